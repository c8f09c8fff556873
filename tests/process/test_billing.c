/* SPDX-License-Identifier: MIT */
/*
 * Who pays for memory: its writer, whoever reads it, and whoever touches it first. The kernel bills a page of
 * a file to the control group of whoever makes it be there, so that a reader with a small limit could be
 * killed by a generous writer. The writer and the reader are in a group each, and each group says what it has.
 * Where there are no groups to be made, what remains is that no page is missing that reading would make.
 * ThreadSanitizer would have private memory of the reader for each page that it reads.
 * ctest: serial no-tsan
 */
#include "process/loans.h"

#include <inttypes.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)
#define LARGE (16 * MIB)
#define N_LARGE 4 /* messages, loans and regions each, kept at a time */

#define WRITER_LEAST (3 * N_LARGE * LARGE) /* 192 MiB */
#define READER_MOST \
    (8 * MIB) /* what it maps takes half a MiB of page tables; the rest is private */

/* ---- control groups -------------------------------------------------------------------------------- */

struct group {
    char folder[256]; /* empty: there is none */
    const char *usage;
};

enum { WRITER, READER };

static struct group groups[2];

/* Where groups that count memory can be made: in version 2 only where that is switched on. */
static bool place_for_groups(const struct mntent *mount, const char **ret_usage)
{
    char path[256], line[256] = "";
    FILE *file;

    if (strcmp(mount->mnt_type, "cgroup") == 0) {
        *ret_usage = "memory.usage_in_bytes";
        return hasmntopt(mount, "memory") != NULL;
    }
    if (strcmp(mount->mnt_type, "cgroup2") != 0)
        return false;
    *ret_usage = "memory.current";
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", mount->mnt_dir);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    return strstr(line, "memory") != NULL;
}

static bool group_make(struct group *group, const struct mntent *mount, const char *name)
{
    struct group made;

    if (!place_for_groups(mount, &made.usage))
        return false;
    snprintf(made.folder, sizeof made.folder, "%s/veridian-test-%d-%s", mount->mnt_dir,
             (int)getpid(), name);
    if (mkdir(made.folder, 0755) != 0)
        return false;
    *group = made;
    return true;
}

static int groups_make(void **state)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    const struct mntent *mount;

    (void)state;
    if (!mounts)
        return -1;
    while (groups[READER].folder[0] == '\0' && (mount = getmntent(mounts)))
        if (group_make(&groups[WRITER], mount, "writer") &&
            !group_make(&groups[READER], mount, "reader"))
            rmdir(groups[WRITER].folder);
    endmntent(mounts);
    if (groups[READER].folder[0] == '\0')
        print_message("[          ] no control group can be made here: who pays was not asked\n");
    return 0;
}

static FILE *group_open(const struct group *group, const char *name, const char *mode)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", group->folder, name);
    file = fopen(path, mode);
    support_require(file != NULL);
    return file;
}

/* Whoever is left in it is a child of this test. */
static void group_remove(struct group *group)
{
    FILE *file = group_open(group, "cgroup.procs", "re");
    int pid;

    while (fscanf(file, "%d", &pid) == 1) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    fclose(file);
    while (rmdir(group->folder) != 0) /* busy for a moment after the last one has left */
        support_sleep_ms(1);
    group->folder[0] = '\0';
}

static int groups_remove(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        if (groups[i].folder[0] != '\0')
            group_remove(&groups[i]);
    return 0;
}

static void group_enter(const struct group *group)
{
    FILE *file;

    if (group->folder[0] == '\0')
        return;
    file = group_open(group, "cgroup.procs", "we");
    support_require(fprintf(file, "%d", (int)getpid()) > 0);
    EXPECT(fclose(file), 0);
}

static int64_t group_bytes(const struct group *group)
{
    FILE *file;
    int64_t n;

    if (group->folder[0] == '\0')
        return 0;
    file = group_open(group, group->usage, "re");
    EXPECT(fscanf(file, "%" SCNd64, &n), 1);
    fclose(file);
    return n;
}

/* ---- the writer --------------------------------------------------------------------------------------- */

struct scene {
    int sock;
    int invitation;           /* of the channel; the reader has its other side */
    struct support_gate read; /* everything was, and is still held */
    int64_t grown[2];         /* bytes of the two groups, since they began */
};

static vrd_cap_t region_of_kind(uint32_t i)
{
    static const uint32_t modes[N_LARGE] = { VRD_REGION_PUBLISHED, VRD_REGION_SNAPSHOT,
                                             VRD_REGION_SHARED, VRD_REGION_PUBLISHED };
    const struct vrd_region_options options = { .mode = modes[i] };
    vrd_cap_t cap;

    EXPECT(vrd_region_create(LARGE, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    return cap;
}

/* Every second one is written by nobody: who reads it is the first to touch it. */
static int writes(void *arg)
{
    struct scene *scene = arg;
    uint8_t *data = malloc(LARGE);
    vrd_cap_t cap;
    int64_t before;

    support_require(data != NULL);
    memset(data, 7, LARGE); /* malloc's memory is not what is asked about */
    group_enter(&groups[WRITER]);
    before = group_bytes(&groups[WRITER]);
    EXPECT(vrd_cap_import(scene->invitation, &cap), 0);
    for (uint32_t i = 0; i < N_LARGE; i++) {
        struct vrd_loan loan;

        EXPECT(vrd_send(cap, data, LARGE), 0);
        EXPECT(vrd_loan(cap, LARGE, &loan), 0);
        if (i % 2 == 0)
            memset(loan.data, 8, LARGE);
        EXPECT(vrd_loan_send(&loan, VRD_FOREVER), 0);
    }
    for (uint32_t i = 0; i < N_LARGE; i++) {
        const vrd_cap_t region = region_of_kind(i);
        size_t size;
        void *addr;
        int fd;

        if (i % 2 == 0) {
            EXPECT(vrd_region_map(region, VRD_RIGHTS_READ_WRITE, &addr, &size), 0);
            memset(addr, 9, size);
        }
        EXPECT(vrd_cap_export(region, VRD_RIGHT_READ, &fd), 0);
        support_send_fd(scene->sock, fd);
        close(fd);
    }
    support_gate_wait(&scene->read);
    scene->grown[WRITER] = group_bytes(&groups[WRITER]) - before;
    free(data);
    return 0;
}

/* ---- the reader --------------------------------------------------------------------------------------- */

/* All its pages are there before it is read, and so none is made by it. */
static void read_each_page(const void *data, size_t len)
{
    const uintptr_t begin = (uintptr_t)data & ~(uintptr_t)(PAGE - 1);
    const size_t pages = ((uintptr_t)data + len - begin + PAGE - 1) / PAGE;
    const volatile uint8_t *bytes = data;
    uint8_t *there = malloc(pages);

    support_require(there != NULL);
    EXPECT(mincore((void *)begin, pages * PAGE, there), 0);
    for (size_t i = 0; i < pages; i++)
        support_require(there[i] & 1);
    for (size_t at = 0; at < len; at += PAGE)
        EXPECT(bytes[at], bytes[0]);
    free(there);
}

static int reads(struct scene *scene, vrd_cap_t receive)
{
    const int64_t before = group_bytes(&groups[READER]);
    struct vrd_view views[2 * N_LARGE];

    for (size_t i = 0; i < 2 * N_LARGE; i++) {
        EXPECT(vrd_receive_view(receive, &views[i], VRD_FOREVER), 0);
        EXPECT(views[i].len, LARGE);
        read_each_page(views[i].data, LARGE);
    }
    for (size_t i = 0; i < N_LARGE; i++) {
        vrd_cap_t region;
        size_t size;
        void *addr;
        const int fd = support_receive_fd(scene->sock);

        EXPECT(vrd_cap_import(fd, &region), 0);
        EXPECT(vrd_region_map(region, VRD_RIGHT_READ, &addr, &size), 0);
        EXPECT(size, LARGE);
        read_each_page(addr, size);
    }
    scene->grown[READER] = group_bytes(&groups[READER]) - before;
    support_gate_open(&scene->read);
    for (size_t i = 0; i < 2 * N_LARGE; i++)
        release(&views[i]);
    return 0;
}

/* The channel is the reader's. */
static int reader_begins(void *arg)
{
    struct scene *scene = arg;
    struct ends ends;
    int fd;

    group_enter(&groups[READER]);
    ends = ends_with(16, LARGE, 4 * N_LARGE * LARGE);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &fd), 0);
    support_send_fd(scene->sock, fd);
    close(fd);
    EXPECT(vrd_cap_close(ends.send), 0);
    return reads(scene, ends.receive);
}

static int writer_begins(void *arg)
{
    struct scene *scene = arg;

    scene->invitation = support_receive_fd(scene->sock);
    return writes(scene);
}

static void test_a_reader_does_not_pay(void **state)
{
    struct scene *scenes = support_shared_new(2 * sizeof(*scenes));
    int pair[2];
    pid_t children[2];

    (void)state;
    support_socket_pair(pair);
    support_gate_init(&scenes[WRITER].read);
    scenes[READER].read = scenes[WRITER].read;
    scenes[WRITER].sock = pair[0];
    scenes[READER].sock = pair[1];
    children[WRITER] = support_child(writer_begins, &scenes[WRITER]);
    children[READER] = support_child(reader_begins, &scenes[READER]);
    close(pair[0]);
    close(pair[1]);
    support_wait_exit(children[READER], 0);
    support_wait_exit(children[WRITER], 0);
    if (groups[READER].folder[0] != '\0') {
        const int64_t writer = scenes[WRITER].grown[WRITER], reader = scenes[READER].grown[READER];

        print_message("[          ] the writer's bill: %" PRId64 " KiB, the reader's: %" PRId64
                      " KiB\n",
                      writer / 1024, reader / 1024);
        assert_true(writer >= (int64_t)WRITER_LEAST);
        assert_true(reader <= (int64_t)READER_MOST);
    }
    support_gate_deinit(&scenes[WRITER].read);
    support_shared_free(scenes, 2 * sizeof(*scenes));
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_FIXTURE(test_a_reader_does_not_pay, groups_make, groups_remove),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
