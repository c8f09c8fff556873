/* SPDX-License-Identifier: MIT */
/*
 * A file of a peer's own file system, sent where a segment belongs. Each call that reaches the file system
 * waits until the peer answers, be it the close of what nobody asked for: only that may wait, and nobody
 * else for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/socket.h"
#include "support/support.h"

#define SECONDS INT64_C(1000000000)
#define MOUNTED_ON "/tmp" /* in a name space of its own */
#define FILE_NODE 2
#define FOREVER_S 100000

struct attack {
    struct support_gate sent, asked_to_close;
    pid_t *file_system; /* shared; 0: we may not have one */
};

/* ---- the file system ------------------------------------------------------------------------------------ */

struct file_system {
    int device;
    const struct attack *attack;
};

static void answer(const struct file_system *fs, const struct fuse_in_header *request, int error,
                   const void *data, size_t len)
{
    struct {
        struct fuse_out_header header;
        uint8_t data[256];
    } out = { .header = { .len = (uint32_t)(sizeof out.header + len),
                          .error = -error,
                          .unique = request->unique } };

    if (len > 0)
        memcpy(out.data, data, len);
    support_require_equal(write(fs->device, &out, out.header.len), out.header.len);
}

static struct fuse_attr attributes(uint64_t node)
{
    return (struct fuse_attr){ .ino = node,
                               .size = LAYOUT_PAGE,
                               .mode = node == FILE_NODE ? S_IFREG | 0600 : S_IFDIR | 0700,
                               .nlink = 1 };
}

/* What it takes to open the file. All else, also what finds out its size, is never answered. */
static void serve(const struct file_system *fs, const struct fuse_in_header *request)
{
    const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
                                        .minor = 31,
                                        .max_write = LAYOUT_PAGE };
    const struct fuse_entry_out entry = { .nodeid = FILE_NODE, .attr = attributes(FILE_NODE) };
    const struct fuse_attr_out attr = { .attr_valid = FOREVER_S,
                                        .attr = attributes(request->nodeid) };
    const struct fuse_open_out open = { .fh = 1 };

    switch (request->opcode) {
    case FUSE_INIT:
        answer(fs, request, 0, &init, sizeof init);
        break;
    case FUSE_LOOKUP:
        answer(fs, request, 0, &entry, sizeof entry);
        break;
    case FUSE_GETATTR:
        if (request->nodeid != FILE_NODE)
            answer(fs, request, 0, &attr, sizeof attr);
        break;
    case FUSE_OPEN:
        answer(fs, request, 0, &open, sizeof open);
        break;
    case FUSE_FLUSH:
        support_gate_open(&fs->attack->asked_to_close);
        break;
    default:
        break;
    }
}

static void file_system_run(const struct file_system *fs)
{
    static union {
        struct fuse_in_header header;
        uint8_t bytes[FUSE_MIN_READ_BUFFER + LAYOUT_PAGE];
    } request;

    while (read(fs->device, &request, sizeof request) > 0)
        serve(fs, &request.header);
}

/* A descriptor of its one file; -1 where we may not have a file system. */
static int file_open(const struct attack *attack)
{
    char options[100];
    pid_t server;

    const struct file_system fs = { .device = open("/dev/fuse", O_RDWR | O_CLOEXEC),
                                    .attack = attack };

    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fs.device);
    if (fs.device < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("hostile", MOUNTED_ON, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        return -1;
    /* a process of its own, which can be gone before the descriptor is closed */
    server = fork();
    if (server == 0) {
        file_system_run(&fs);
        _exit(0);
    }
    *attack->file_system = server;
    close(fs.device);
    return open(MOUNTED_ON "/file", O_RDWR | O_CLOEXEC);
}

/* ---- the attack -------------------------------------------------------------------------------------- */

static int connected(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s/victim", support_runtime_dir());
    support_require(fd >= 0);
    support_require_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Until it is killed. */
static int attacker_run(void *arg)
{
    const struct frame hello = { .type = FRAME_HELLO_HERE, .slots = 16, .max_message = 4096 };
    const struct attack *attack = arg;
    const int victim = connected(), file = file_open(attack);
    uint8_t data[FRAME_SIZE];

    if (file >= 0) {
        frame_encode(&hello, data);
        support_require_equal(socket_send(victim, data, sizeof data, &file, 1), 0);
    }
    support_gate_open(&attack->sent);
    for (;;)
        pause();
}

/* ---- the honest ---------------------------------------------------------------------------------------- */

static int role_client(struct support_role_args *args)
{
    vrd_cap_t cap;

    (void)args;
    support_require_equal(vrd_connect("victim", 10 * SECONDS, &cap), 0);
    support_require_equal(vrd_send(cap, "honest", 6), 0);
    return 0;
}

static void nobody_waits_for_a_peers_file_system(void **state)
{
    struct attack attack = { .file_system = support_shared_new(sizeof(pid_t)) };
    vrd_cap_t send, receive;
    char text[8];
    pid_t attacker;

    (void)state;
    support_runtime_dir();
    support_gate_init(&attack.sent);
    support_gate_init(&attack.asked_to_close);
    support_require_equal(vrd_channel_create(16, &send, &receive), 0);
    support_require_equal(vrd_publish(send, "victim", NULL), 0);
    support_require_equal(vrd_receive_timed(receive, text, sizeof text, SECONDS / 100),
                          VRD_ERR_TIMEOUT); /* from now on its reactor watches */
    attacker = support_child(attacker_run, &attack);
    support_gate_wait(&attack.sent);
    if (*attack.file_system > 0) {
        support_gate_wait(&attack.asked_to_close); /* ... and is not answered */
        support_wait_exit(support_spawn_role("client", NULL, 0, NULL), 0);
        support_require_equal(vrd_receive_timed(receive, text, sizeof text, 10 * SECONDS), 6);
    } else {
        print_message("no file system to be had here: nothing was tested\n");
    }
    if (*attack.file_system > 0) /* first: its end answers all that it was asked */
        support_require_equal(kill(*attack.file_system, SIGKILL), 0);
    support_kill(attacker);
    support_require_equal(vrd_unpublish("victim"), 0);
    support_require_equal(vrd_cap_close(send), 0);
    support_require_equal(vrd_cap_close(receive), 0);
    support_gate_deinit(&attack.sent);
    support_gate_deinit(&attack.asked_to_close);
    support_shared_free(attack.file_system, sizeof(pid_t));
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(nobody_waits_for_a_peers_file_system),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "client", role_client },
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
