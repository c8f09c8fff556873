/* SPDX-License-Identifier: MIT */
/* Names: publishing, connecting from unrelated processes, and what may go wrong between them. */
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SECONDS (INT64_C(1000) * MS)

/* One more than VRD_NAME_MAX. */
#define LONG_NAME "01234567890123456789012345678901234567890123456789012345678901234"

static int names_warm_up(void)
{
    return channels_warm_up();
}

static bool name_exists(const char *name)
{
    char path[108];

    path_of(name, path);
    return access(path, F_OK) == 0;
}

/* Descriptors of segments that this process has open. */
static size_t segments_open(void)
{
    char path[32], target[64];
    size_t n = 0;

    for (int fd = 0; fd < 1024; fd++) {
        ssize_t len;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        len = readlink(path, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        n += strncmp(target, "/memfd:veridian", 15) == 0;
    }
    return n;
}

/* ---- the other process ------------------------------------------------------------------------- */

/* client NAME TEXT: connects, waiting for the name, and sends. */
static int role_client(struct support_role_args *args)
{
    vrd_cap_t cap;

    EXPECT(vrd_connect(args->args[0], 20 * SECONDS, &cap), 0);
    EXPECT(vrd_send(cap, args->args[1], strlen(args->args[1])), 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(segments_open(), 0); /* who connects once keeps nothing */
    return 0;
}

/* refused NAME ERROR */
static int role_refused(struct support_role_args *args)
{
    vrd_cap_t cap;

    EXPECT(vrd_connect(args->args[0], 0, &cap), atoi(args->args[1]));
    return 0;
}

/* server NAME [N]: publishes, opens the gate at descriptor 3, and receives one message, or N. */
static int role_server(struct support_role_args *args)
{
    struct support_gate ready = { .fd = args->fds[0] };
    int n = args->args[1] ? atoi(args->args[1]) : 1;
    vrd_cap_t send, receive;
    char text[16];

    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, args->args[0], NULL), 0);
    support_gate_open(&ready);
    for (int i = 0; i < n; i++)
        EXPECT(vrd_receive(receive, text, sizeof text), 5);
    return 0; /* the name goes with the process */
}

static pid_t client_start(const char *name, const char *text)
{
    return support_spawn_role("client", NULL, 0, (const char *[]){ name, text, NULL });
}

static void receive_text(vrd_cap_t receive, const char *expected)
{
    char text[64];

    EXPECT(vrd_receive_timed(receive, text, sizeof text, 20 * SECONDS), strlen(expected));
    assert_memory_equal(text, expected, strlen(expected));
}

/* ---- tests ----------------------------------------------------------------------------------------- */

static void an_unrelated_process_connects_by_name(void **state)
{
    struct vrd_message message;
    char text[16];
    vrd_cap_t send, receive;
    pid_t client;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(7, &send, &receive), 0);
    EXPECT(vrd_publish(send, "plain", NULL), 0);
    assert_true(name_exists("plain"));
    client = client_start("plain", "hello");
    message = (struct vrd_message){ .data = text, .size = sizeof text };
    EXPECT(vrd_receive_message(receive, &message, 20 * SECONDS), 0);
    EXPECT(message.len, 5);
    EXPECT(message.source.pid, client);
    EXPECT(message.source.uid, getuid());
    support_wait_exit(client, 0);
    EXPECT(vrd_unpublish("plain"), 0);
    assert_false(name_exists("plain"));
    EXPECT(vrd_unpublish("plain"), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void many_connect_and_each_is_somebody(void **state)
{
    enum { CLIENTS = 12 };
    pid_t clients[CLIENTS];
    vrd_cap_t send, receive;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "many", NULL), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = client_start("many", "12345678");
    for (size_t i = 0; i < CLIENTS; i++)
        receive_text(receive, "12345678");
    for (size_t i = 0; i < CLIENTS; i++)
        support_wait_exit(clients[i], 0);
    EXPECT(vrd_cap_close(send), 0); /* and with it the name */
    assert_false(name_exists("many"));
    EXPECT(vrd_cap_close(receive), 0);
}

/* Publishes what a client already waits for, until that has it. */
static void serve_late(pid_t client)
{
    vrd_cap_t send, receive;

    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "late", NULL), 0);
    receive_text(receive, "early");
    support_wait_exit(client, 0);
    EXPECT(vrd_unpublish("late"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void who_connects_first_waits_for_the_publisher(void **state)
{
    pid_t client;

    (void)state;
    support_runtime_dir();
    client = client_start("late", "early");
    support_wait_asleep(client);
    serve_late(client);
}

/* The directory is not there, is made, is removed while somebody waits in it, and is made once more. */
static void the_directory_comes_and_goes(void **state)
{
    char base[108], way[128], below[160];
    pid_t client;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(way, sizeof way, "%s/way", base);
    snprintf(below, sizeof below, "%s/names", way);
    setenv("VERIDIAN_RUNTIME_DIR", below, 1);
    client = client_start("late", "early");
    support_wait_asleep(client);
    for (int i = 0;; i++) {
        EXPECT(mkdir(way, 0700), 0);
        EXPECT(mkdir(below, 0700), 0);
        support_wait_asleep(client);
        if (i == 2)
            break;
        EXPECT(rmdir(below), 0);
        support_wait_asleep(client);
        EXPECT(rmdir(way), 0);
        support_wait_asleep(client);
    }
    serve_late(client);
    EXPECT(rmdir(below), 0);
    EXPECT(rmdir(way), 0);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

static int stranger(void *arg)
{
    const vrd_cap_t *send = arg;
    vrd_cap_t cap;

    support_require(setgid(65534) == 0 && setuid(65534) == 0);
    EXPECT(vrd_publish(*send, "mine", NULL), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_connect("mine", 0, &cap), VRD_ERR_ENDPOINT_NOT_FOUND);
    return 0;
}

/* What another user has there is nobody's to publish in; to connect it has to let one through. */
static void the_directory_of_somebody_else(void **state)
{
    char base[108], below[160];
    vrd_cap_t send, receive;

    (void)state;
    if (geteuid() != 0) {
        print_message("not root: nobody to be\n");
        return;
    }
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(below, sizeof below, "%s/theirs", base);
    EXPECT(mkdir(below, 0755), 0);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    setenv("VERIDIAN_RUNTIME_DIR", below, 1);
    EXPECT(chmod(base, 0755), 0);
    support_wait_exit(support_child(stranger, &send), 0);
    EXPECT(chmod(base, 0700), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    EXPECT(rmdir(below), 0);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

static void within_one_process(void **state)
{
    vrd_cap_t send, receive, cap;
    struct vrd_cap_info info;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_receive_timed(receive, NULL, 0, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_publish(send, "here",
                       &(struct vrd_publish_options){ .rights = VRD_RIGHT_SEND | VRD_RIGHT_GRANT }),
           0);
    EXPECT(vrd_connect("here", 0, &cap), 0);
    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.rights, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    EXPECT(info.slots, 4);
    EXPECT(info.depth, 2);
    EXPECT(vrd_send(cap, "self", 4), 0);
    receive_text(receive, "self");
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_unpublish("here"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void nobody_there(void **state)
{
    vrd_cap_t cap;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_connect("nobody", 0, &cap), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_connect("nobody", 30 * MS, &cap), VRD_ERR_TIMEOUT);
}

static void wrong_arguments(void **state)
{
    static const char *const bad[] = { "",     ".",      "..",        ".hidden", "a/b",
                                       "/abs", "sp ace", "new\nline", LONG_NAME };
    const struct vrd_publish_options odd[] = { { .mode = 01777 },
                                               { .rights = VRD_RIGHT_RECEIVE },
                                               { .rights = VRD_RIGHT_GRANT },
                                               { .reserved = { 1 } } };
    vrd_cap_t send, receive, weak, cap;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        EXPECT(vrd_publish(send, bad[i], NULL), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_connect(bad[i], 0, &cap), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_unpublish(bad[i]), VRD_ERR_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        EXPECT(vrd_publish(send, "odd", &odd[i]), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_publish(send, NULL, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_connect("x", -2, &cap), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_connect("x", 0, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_publish(VRD_CAP_NONE, "x", NULL), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_publish(send ^ UINT64_C(1) << 40, "x", NULL), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_derive(send, VRD_RIGHT_SEND, &weak), 0);
    EXPECT(vrd_publish(weak, "weak", NULL), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_close(weak), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void a_live_name_is_in_use(void **state)
{
    struct support_gate ready;
    vrd_cap_t send, receive;
    pid_t server;

    (void)state;
    support_runtime_dir();
    support_gate_init(&ready);
    server = support_spawn_role("server", &ready.fd, 1, (const char *[]){ "taken", NULL });
    support_gate_wait(&ready);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "taken", NULL), VRD_ERR_NAME_IN_USE);
    EXPECT(vrd_publish(send, "mine", NULL), 0);
    EXPECT(vrd_publish(send, "mine", NULL), VRD_ERR_NAME_IN_USE); /* by ourselves */
    EXPECT(vrd_unpublish("taken"), VRD_ERR_ENDPOINT_NOT_FOUND);
    support_wait_exit(client_start("taken", "hello"), 0);
    support_wait_exit(server, 0);
    assert_false(name_exists("taken")); /* an orderly end leaves nothing */
    EXPECT(vrd_unpublish("mine"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&ready);
}

static void what_a_killed_publisher_leaves_is_taken_over(void **state)
{
    struct support_gate ready;
    vrd_cap_t send, receive, cap;
    pid_t server, client;

    (void)state;
    support_runtime_dir();
    support_gate_init(&ready);
    server = support_spawn_role("server", &ready.fd, 1, (const char *[]){ "stale", NULL });
    support_gate_wait(&ready);
    support_kill(server);
    assert_true(name_exists("stale"));
    EXPECT(vrd_connect("stale", 0, &cap), VRD_ERR_ENDPOINT_NOT_FOUND);
    client = client_start("stale", "again"); /* waits for the one who takes over */
    support_wait_asleep(client);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "stale", NULL), 0);
    receive_text(receive, "again");
    support_wait_exit(client, 0);
    EXPECT(vrd_unpublish("stale"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&ready);
}

static void another_file_of_that_name_stays(void **state)
{
    vrd_cap_t send, receive;
    char path[108];
    FILE *file;

    (void)state;
    path_of("file", path);
    file = fopen(path, "w");
    support_require(file != NULL);
    fclose(file);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "file", NULL), VRD_ERR_NAME_IN_USE);
    assert_int_equal(unlink(path), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* Two publishers race; just one wins, and it is the one who is reached. */
static int racer(void *arg)
{
    const struct support_gate *gate = arg;
    vrd_cap_t send, receive;
    char text[16];
    int result;

    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    support_gate_wait(gate);
    result = vrd_publish(send, "race", NULL);
    if (result == VRD_ERR_NAME_IN_USE)
        return 0;
    EXPECT(result, 0);
    EXPECT(vrd_receive_timed(receive, text, sizeof text, 20 * SECONDS), 3);
    EXPECT(vrd_unpublish("race"), 0);
    return 1;
}

static void of_two_publishers_one_wins(void **state)
{
    (void)state;
    support_runtime_dir();
    for (size_t round = 0; round < support_iterations(20); round++) {
        struct support_gate gate;
        pid_t racers[2], loser;
        int status;

        support_gate_init(&gate);
        for (int i = 0; i < 2; i++)
            racers[i] = support_child(racer, &gate);
        support_gate_open(&gate);
        support_gate_open(&gate);
        loser = waitpid(-1, &status, 0); /* the winner waits for a client, and there is none yet */
        support_require(loser == racers[0] || loser == racers[1]);
        support_require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        support_wait_exit(client_start("race", "won"), 0);
        support_wait_exit(loser == racers[0] ? racers[1] : racers[0], 1);
        support_gate_deinit(&gate);
    }
}

/* ---- who may ------------------------------------------------------------------------------------------- */

struct judge {
    pid_t unwanted;
    int asked;
    const char *withdraw;
};

static bool judge(const struct vrd_source *who, void *user)
{
    struct judge *judge = user;

    judge->asked++;
    if (judge->withdraw)
        EXPECT(vrd_unpublish(judge->withdraw), 0);
    return who->uid == getuid() && who->pid != judge->unwanted;
}

static void the_publisher_may_refuse(void **state)
{
    struct judge rules = { .unwanted = getpid() };
    vrd_cap_t send, receive, cap;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "guarded",
                       &(struct vrd_publish_options){ .allow = judge, .user = &rules }),
           0);
    EXPECT(vrd_connect("guarded", 0, &cap), VRD_ERR_PERMISSION_DENIED);
    support_wait_exit(client_start("guarded", "let in"), 0);
    receive_text(receive, "let in");
    EXPECT(vrd_unpublish("guarded"), 0);
    EXPECT(rules.asked, 2);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void the_publisher_may_withdraw_while_it_is_asked(void **state)
{
    struct judge rules = { .withdraw = "once" };
    vrd_cap_t send, receive, cap;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(
        vrd_publish(send, "once", &(struct vrd_publish_options){ .allow = judge, .user = &rules }),
        0);
    EXPECT(vrd_connect("once", 0, &cap), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_unpublish("once"), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(rules.asked, 1);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void the_mode_of_the_file_is_as_asked(void **state)
{
    static const uint32_t modes[] = { 0, 0600, 0660, 0666, 0777, 0400 };
    const mode_t mask = umask(077);
    vrd_cap_t send, receive;
    char path[108];

    (void)state;
    path_of("mode", path);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct stat status;

        EXPECT(vrd_publish(send, "mode", &(struct vrd_publish_options){ .mode = modes[i] }), 0);
        assert_int_equal(stat(path, &status), 0);
        EXPECT(status.st_mode & 07777, modes[i] != 0 ? modes[i] : 0600);
        EXPECT(vrd_unpublish("mode"), 0);
    }
    umask(mask);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static int another_user(void *arg)
{
    vrd_cap_t cap;

    (void)arg;
    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 1;
    EXPECT(vrd_connect("private", 0, &cap), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_connect("public", 0, &cap), 0);
    EXPECT(vrd_send(cap, "nobody", 6), 0);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void the_mode_keeps_other_users_out(void **state)
{
    struct vrd_message message;
    char text[16];
    vrd_cap_t send, receive;
    pid_t child;

    (void)state;
    if (getuid() != 0)
        skip();
    assert_int_equal(chmod(support_runtime_dir(), 0711), 0);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "private", NULL), 0);
    EXPECT(vrd_publish(send, "public", &(struct vrd_publish_options){ .mode = 0666 }), 0);
    child = support_child(another_user, NULL);
    message = (struct vrd_message){ .data = text, .size = sizeof text };
    EXPECT(vrd_receive_message(receive, &message, 20 * SECONDS), 0);
    EXPECT(message.source.uid, 65534);
    EXPECT(message.source.gid, 65534);
    support_wait_exit(child, 0);
    EXPECT(vrd_unpublish("private"), 0);
    EXPECT(vrd_unpublish("public"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- others between ------------------------------------------------------------------------------------- */

/* Publishes what another process owns. */
static int go_between(void *arg)
{
    const int *fds = arg;
    const struct support_gate ready = { .fd = fds[1] };
    const struct support_gate done = { .fd = fds[2] };
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(fds[0], &cap), 0);
    EXPECT(vrd_publish(cap, "elsewhere", NULL), 0);
    support_gate_open(&ready);
    support_gate_wait(&done);
    EXPECT(vrd_unpublish("elsewhere"), 0);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void the_publisher_need_not_be_the_owner(void **state)
{
    struct support_gate ready, done;
    vrd_cap_t send, receive;
    int invitation;
    pid_t child;

    (void)state;
    support_runtime_dir();
    support_gate_init(&ready);
    support_gate_init(&done);
    EXPECT(vrd_channel_create(5, &send, &receive), 0);
    EXPECT(vrd_cap_export(send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation), 0);
    child = support_child(go_between, (int[]){ invitation, ready.fd, done.fd });
    close(invitation);
    while (vrd_receive_timed(receive, NULL, 0, 10 * MS) == VRD_ERR_TIMEOUT &&
           !name_exists("elsewhere"))
        ;
    support_gate_wait(&ready);
    support_wait_exit(client_start("elsewhere", "through"), 0);
    receive_text(receive, "through");
    support_gate_open(&done);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_receive_timed(receive, NULL, 0, 20 * SECONDS), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&ready);
    support_gate_deinit(&done);
}

/* Who connects and says nothing, or nonsense, or goes, or comes a thousand times, disturbs nobody. */
static void visitors_with_bad_manners(void **state)
{
    enum { SILENT = 50 };
    vrd_cap_t send, receive;
    int silent[SILENT];

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "open", NULL), 0);
    for (int i = 0; i < SILENT; i++)
        silent[i] = bare_connect("open");
    for (size_t i = 0; i < support_iterations(1000); i++) {
        const int fd = bare_connect("open");

        if (i % 3 == 0)
            (void)!write(fd, "\0\0\0 this is no frame", 21);
        close(fd);
        if (i % 100 == 0) /* the owner has to look now and then, as any owner does */
            EXPECT(vrd_receive_timed(receive, NULL, 0, 0), VRD_ERR_CHANNEL_EMPTY);
    }
    support_wait_exit(client_start("open", "polite"), 0);
    receive_text(receive, "polite");
    for (int i = 0; i < SILENT; i++)
        close(silent[i]);
    EXPECT(vrd_unpublish("open"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static int only_looks(void *arg)
{
    vrd_cap_t *send = arg;

    EXPECT(vrd_unpublish("parents"), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_cap_close(*send), 0);
    return 0; /* and its end does not remove the parent's name */
}

static void a_child_has_none_of_its_parents_names(void **state)
{
    vrd_cap_t send, receive;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "parents", NULL), 0);
    support_wait_exit(support_child(only_looks, &send), 0);
    assert_true(name_exists("parents"));
    support_wait_exit(client_start("parents", "still"), 0);
    receive_text(receive, "still");
    EXPECT(vrd_unpublish("parents"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static int has_no_segments(void *arg)
{
    struct ends ends;

    (void)arg;
    ends = ends_new(4); /* the first use of the library */
    EXPECT(segments_open(), 0);
    numbered_send(ends.send, 1, 0, 8); /* and it makes segments of its own */
    numbered_receive(ends.receive, 1, 0, 8);
    ends_close(&ends);
    return 0;
}

static void segments_come(size_t n)
{
    int tries = 0;

    while (segments_open() < n && tries++ < 500)
        support_sleep_ms(10);
    assert_true(segments_open() >= n);
}

static void segments_go(void)
{
    int tries = 0;

    while (segments_open() > 0 && tries++ < 1000)
        support_sleep_ms(10);
    assert_int_equal(segments_open(), 0);
}

/* They are made before anybody connects, also where the library's thread already sleeps. */
static void segments_are_ready_for_who_connects_first(void **state)
{
    vrd_cap_t send, receive;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT(vrd_publish(send, "before", NULL), 0);
        segments_come(2);
        EXPECT(vrd_unpublish("before"), 0);
        segments_go();
        support_sleep_ms(20); /* the thread falls asleep meanwhile */
    }
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* A publisher keeps segments ready for those who connect: a child has none of them. */
static void a_child_has_none_of_its_parents_segments(void **state)
{
    vrd_cap_t send, receive;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "ready", NULL), 0);
    support_wait_exit(client_start("ready", "first"), 0);
    receive_text(receive, "first");
    segments_come(2);
    support_wait_exit(support_child(has_no_segments, NULL), 0);
    support_wait_exit(client_start("ready", "as before"), 0);
    receive_text(receive, "as before");
    EXPECT(vrd_unpublish("ready"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

#define AGAIN 100
#define AGAIN_TEXT "100"

/* Again and again: within a second, mostly. */
static void who_connects_again_keeps_a_segment_for_a_second(void **state)
{
    struct support_gate ready;
    bool kept = false;
    pid_t server;
    vrd_cap_t cap;

    (void)state;
    support_runtime_dir();
    support_gate_init(&ready);
    server =
        support_spawn_role("server", &ready.fd, 1, (const char *[]){ "again", AGAIN_TEXT, NULL });
    support_gate_wait(&ready);
    for (int i = 0; i < AGAIN; i++) {
        EXPECT(vrd_connect("again", 20 * SECONDS, &cap), 0);
        EXPECT(vrd_send(cap, "hello", 5), 0);
        EXPECT(vrd_cap_close(cap), 0);
        if (segments_open() == 0 || kept)
            continue;
        kept = true;
        support_wait_exit(support_child(has_no_segments, NULL), 0);
    }
    assert_true(kept);
    support_wait_exit(server, 0);
    support_gate_deinit(&ready);
    segments_go();
}

static void a_name_whose_owner_is_gone_goes_too(void **state)
{
    vrd_cap_t send, receive, cap;
    int tries = 0;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_receive_timed(receive, NULL, 0, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_publish(send, "orphan", NULL), 0);
    EXPECT(vrd_receive_timed(receive, NULL, 0, 10 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_close(receive), 0);
    while (name_exists("orphan") && tries++ < 500)
        support_sleep_ms(10);
    assert_false(name_exists("orphan"));
    EXPECT(vrd_connect("orphan", 0, &cap), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_cap_close(send), 0);
}

static void refused_by_role(void **state)
{
    (void)state;
    support_runtime_dir();
    support_wait_exit(
        support_spawn_role("refused", NULL, 0, (const char *[]){ "none", "-3", NULL }), 0);
}

/* What a client has made ready does not fit the memory that the channel asks for. */
static void memory_is_of_the_channels_choice(void **state)
{
    const struct vrd_channel_options options = { .slots = 16, .numa_node = VRD_NUMA_PEER };
    vrd_cap_t send, receive;
    pid_t client;

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create_with(&options, &send, &receive), 0);
    EXPECT(vrd_publish(send, "placed", NULL), 0);
    client = client_start("placed", "hello");
    receive_text(receive, "hello");
    support_wait_exit(client, 0);
    EXPECT(vrd_unpublish("placed"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(an_unrelated_process_connects_by_name),
                     SUPPORT_TEST(many_connect_and_each_is_somebody),
                     SUPPORT_TEST(who_connects_first_waits_for_the_publisher),
                     SUPPORT_TEST(the_directory_comes_and_goes),
                     SUPPORT_TEST(the_directory_of_somebody_else),
                     SUPPORT_TEST(within_one_process),
                     SUPPORT_TEST(memory_is_of_the_channels_choice),
                     SUPPORT_TEST(nobody_there),
                     SUPPORT_TEST(wrong_arguments),
                     SUPPORT_TEST(a_live_name_is_in_use),
                     SUPPORT_TEST(what_a_killed_publisher_leaves_is_taken_over),
                     SUPPORT_TEST(another_file_of_that_name_stays),
                     SUPPORT_TEST(of_two_publishers_one_wins),
                     SUPPORT_TEST(the_publisher_may_refuse),
                     SUPPORT_TEST(the_publisher_may_withdraw_while_it_is_asked),
                     SUPPORT_TEST(the_mode_of_the_file_is_as_asked),
                     SUPPORT_TEST(the_mode_keeps_other_users_out),
                     SUPPORT_TEST(the_publisher_need_not_be_the_owner),
                     SUPPORT_TEST(visitors_with_bad_manners),
                     SUPPORT_TEST(a_child_has_none_of_its_parents_names),
                     SUPPORT_TEST(segments_are_ready_for_who_connects_first),
                     SUPPORT_TEST(a_child_has_none_of_its_parents_segments),
                     SUPPORT_TEST(who_connects_again_keeps_a_segment_for_a_second),
                     SUPPORT_TEST(a_name_whose_owner_is_gone_goes_too),
                     SUPPORT_TEST(refused_by_role),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "client", role_client },
                     { "server", role_server },
                     { "refused", role_refused },
                     { 0 },
                 },
             .warm_up = names_warm_up)
