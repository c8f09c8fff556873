/* SPDX-License-Identifier: MIT */
/*
 * Everything that can be said wrongly over the sockets, spoken by hand to a receiver: the speaker's
 * link ends, nothing of it is left in the receiver, and an honest sender notices nothing.
 *
 * ctest: timeout=180
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fd.h"
#include "peer.h"
#include "support/support.h"
#include "victim.h"
#include "wrong.h"

/* ---- a stage: one attack at a time, each with a leak check of its own -------------------------------- */

struct stage {
    struct victim victim;
    struct support_snapshot before;
    struct peer peer;
    int invitation;
};

/* The attacker has an invitation and all that a HELLO needs. */
static void stage_invited(struct stage *stage, uint32_t rights)
{
    support_snapshot_take(&stage->before);
    stage->invitation = victim_invite(&stage->victim, rights);
    peer_init(&stage->peer, VICTIM_SLOTS);
    raw_hung_up(stage->invitation); /* takes the GREETING */
}

/* ... and has used it. */
static void stage_linked(struct stage *stage, uint32_t rights)
{
    support_snapshot_take(&stage->before);
    stage->invitation = victim_invite(&stage->victim, rights);
    peer_connect(&stage->peer, stage->invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&stage->peer, victim_pump_any, &stage->victim);
}

/* The victim ends it and is as before. */
static void stage_over(struct stage *stage, int fd, const char *attack)
{
    const size_t corrupt = stage->victim.corrupt, strange = stage->victim.strange;

    fd_close(&stage->peer.far);
    victim_pump_until_hung_up(&stage->victim, fd);
    victim_require_well(&stage->victim);
    fd_close(&stage->invitation);
    peer_deinit(&stage->peer);
    if (!support_snapshot_holds(&stage->before))
        support_fail(__FILE__, __LINE__, "%s left something behind", attack);
    if (stage->victim.strange != strange || stage->victim.corrupt > corrupt + 1)
        support_fail(__FILE__, __LINE__, "%s was told %zu times and %zu strange messages arrived",
                     attack, stage->victim.corrupt - corrupt, stage->victim.strange - strange);
}

/* ---- over an invitation -------------------------------------------------------------------------------- */

/* Raw bytes in place of a HELLO. */
static void attack_bytes(struct stage *stage, const char *attack, const void *data, size_t len,
                         size_t n_fds)
{
    int fds[250];

    stage_invited(stage, VRD_RIGHT_SEND);
    for (size_t i = 0; i < n_fds; i++)
        fds[i] = i % 2 == 0 ? stage->peer.far : stage->peer.segment_fd;
    support_require_equal(raw_send(stage->invitation, data, len, fds, n_fds), 0);
    stage_over(stage, stage->invitation, attack);
}

static void test_frames_of_a_wrong_size(void **state)
{
    static const size_t sizes[] = { 0, 1, 2, 8, 63, 65, 71, 72, 73, 128, 4096 };
    struct stage stage;
    uint8_t data[4096] = { 0 };
    struct frame hello = { .type = FRAME_HELLO, .slots = VICTIM_SLOTS, .max_message = 64 };

    (void)state;
    victim_init(&stage.victim);
    frame_encode(&hello, data);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        attack_bytes(&stage, "a frame of a wrong size", data, sizes[i], 2);
        attack_bytes(&stage, "a frame of a wrong size, bare", data, sizes[i], 0);
    }
    victim_deinit(&stage.victim);
}

static void test_wrong_numbers_of_descriptors(void **state)
{
    static const size_t numbers[] = { 0, 1, 3, 4, 64, 250 };
    struct frame hello = { .type = FRAME_HELLO, .slots = VICTIM_SLOTS, .max_message = 64 };
    uint8_t data[FRAME_SIZE];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    frame_encode(&hello, data);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        attack_bytes(&stage, "a wrong number of descriptors", data, sizeof data, numbers[i]);
    victim_deinit(&stage.victim);
}

/* Every byte of a good HELLO, made wrong. */
static void test_each_byte_wrong(void **state)
{
    struct frame hello = { .type = FRAME_HELLO, .slots = VICTIM_SLOTS, .max_message = 64 }, decoded;
    uint8_t data[FRAME_SIZE];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof data; i++) {
        frame_encode(&hello, data);
        data[i] ^= 0x80;
        if (frame_decode(data, sizeof data, 2, &decoded) == 0 && decoded.type == FRAME_HELLO &&
            decoded.slots <= VICTIM_SLOTS && decoded.max_message <= VICTIM_MESSAGE_MAX)
            continue; /* as good as before */
        attack_bytes(&stage, "a HELLO with a wrong byte", data, sizeof data, 2);
    }
    victim_deinit(&stage.victim);
}

static void test_hello_with_wrong_values(void **state)
{
    static const struct frame hellos[] = {
        { .type = FRAME_HELLO, .slots = VICTIM_SLOTS + 1, .max_message = 64 },
        { .type = FRAME_HELLO, .slots = VRD_CHANNEL_SLOTS_MAX, .max_message = 64 },
        { .type = FRAME_HELLO, .slots = UINT32_MAX, .max_message = 64 },
        { .type = FRAME_HELLO, .slots = 0, .max_message = 64 },
        { .type = FRAME_HELLO, .slots = 1, .max_message = 0 },
        { .type = FRAME_HELLO, .slots = 1, .max_message = VICTIM_MESSAGE_MAX + 1 },
        { .type = FRAME_HELLO, .slots = 1, .max_message = PTRDIFF_MAX },
        { .type = FRAME_HELLO, .slots = 1, .max_message = UINT64_MAX },
    };
    uint8_t data[FRAME_SIZE];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        frame_encode(&hellos[i], data);
        attack_bytes(&stage, "a HELLO with wrong values", data, sizeof data, 2);
    }
    victim_deinit(&stage.victim);
}

static void test_other_frames_on_an_invitation(void **state)
{
    static const struct {
        struct frame frame;
        size_t n_fds;
    } frames[] = {
        { { .type = FRAME_WELCOME }, 1 },
        { { .type = FRAME_ATTACH, .extension = 1, .bytes = LAYOUT_PAGE }, 1 },
        { { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = 1 }, 0 },
        { { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND }, 1 },
    };
    uint8_t data[FRAME_SIZE];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        frame_encode(&frames[i].frame, data);
        attack_bytes(&stage, "a frame out of order", data, sizeof data, frames[i].n_fds);
    }
    victim_deinit(&stage.victim);
}

/* The HELLO itself is good, one of the descriptors is not. */
static void attack_descriptor(struct stage *stage, const struct wrong *wrong, bool tether)
{
    struct frame hello = { .type = FRAME_HELLO, .slots = VICTIM_SLOTS, .max_message = 64 };
    int fd;

    stage_invited(stage, VRD_RIGHT_SEND);
    fd = wrong->make();
    support_require_equal(raw_send_frame(stage->invitation, &hello,
                                         (int[]){ tether ? fd : stage->peer.far,
                                                  tether ? stage->peer.segment_fd : fd },
                                         2),
                          0);
    fd_close(&fd);
    stage_over(stage, stage->invitation, wrong->name);
}

static void test_wrong_sockets(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++)
        attack_descriptor(&stage, wrong, true);
    victim_deinit(&stage.victim);
}

static void test_wrong_segments(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++)
        attack_descriptor(&stage, wrong, false);
    victim_deinit(&stage.victim);
}

/* A refused segment must not have been read: holes that are read are billed to the reader. */
static void test_sparse_segment_stays_sparse(void **state)
{
    const int fd = memfd_sparse_in_disguise();
    struct segment segment;
    struct stat status;

    (void)state;
    assert_int_equal(segment_import(fd, LAYOUT_PAGE, &segment), -EPROTO);
    assert_int_equal(ftruncate(fd, LAYOUT_PAGE), 0); /* gives back what lies beyond the end */
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_blocks, 0);
    close(fd);
}

static void test_an_invitation_works_once(void **state)
{
    struct peer second;
    struct frame hello;
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_invited(&stage, VRD_RIGHT_SEND);
    hello = peer_hello(&stage.peer, VICTIM_MESSAGE_MAX);
    peer_init(&second, VICTIM_SLOTS);
    /* both are in the queue before the owner looks */
    raw_send_frame(stage.invitation, &hello, (int[]){ stage.peer.far, stage.peer.segment_fd }, 2);
    raw_send_frame(stage.invitation, &hello, (int[]){ second.far, second.segment_fd }, 2);
    fd_close(&second.far);
    victim_pump_until_hung_up(&stage.victim, second.tether);
    peer_welcome(&stage.peer, victim_pump_any, &stage.victim);
    peer_deinit(&second);
    fd_close(&stage.peer.tether);
    stage_over(&stage, stage.invitation, "an invitation used twice");
    assert_int_equal(stage.victim.corrupt, 0);
    victim_deinit(&stage.victim);
}

static void test_an_invitation_closed_unused(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (int i = 0; i < 20; i++) {
        stage_invited(&stage, VRD_RIGHT_SEND);
        peer_deinit(&stage.peer);
        fd_close(&stage.invitation);
        victim_pump(&stage.victim);
        assert_true(support_snapshot_holds(&stage.before));
    }
    victim_deinit(&stage.victim);
}

/* ---- over a tether ------------------------------------------------------------------------------------- */

static int send_attach(const struct stage *stage, uint32_t number, size_t promised, size_t size)
{
    struct frame attach = { .type = FRAME_ATTACH, .extension = number, .bytes = promised };
    int fd = sealed_memfd(size);
    const int result = raw_send_frame(stage->peer.tether, &attach, &fd, 1);

    fd_close(&fd);
    return result;
}

/* The link's end comes with the next look at the link, which a message causes. */
static void stage_over_tether(struct stage *stage, const char *attack)
{
    stage_over(stage, stage->peer.tether, attack);
    if (stage->victim.corrupt == 0)
        support_fail(__FILE__, __LINE__, "%s was not told", attack);
    stage->victim.corrupt = 0;
}

static void test_attach_of_a_wrong_size(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    send_attach(&stage, 1, 2 * LAYOUT_PAGE, LAYOUT_PAGE);
    stage_over_tether(&stage, "a byte ring smaller than said");
    stage_linked(&stage, VRD_RIGHT_SEND);
    send_attach(&stage, 1, LAYOUT_PAGE, 2 * LAYOUT_PAGE);
    stage_over_tether(&stage, "a byte ring larger than said");
    victim_deinit(&stage.victim);
}

static void test_attach_of_a_wrong_number(void **state)
{
    static const uint32_t numbers[] = { 2, 3, 4, 5, 9, UINT32_MAX };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        stage_linked(&stage, VRD_RIGHT_SEND);
        send_attach(&stage, numbers[i], LAYOUT_PAGE, LAYOUT_PAGE);
        stage_over_tether(&stage, "a byte ring out of turn");
    }
    victim_deinit(&stage.victim);
}

static void test_attach_twice(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    send_attach(&stage, 1, LAYOUT_PAGE, LAYOUT_PAGE);
    send_attach(&stage, 1, LAYOUT_PAGE, LAYOUT_PAGE);
    stage_over_tether(&stage, "the same byte ring twice");
    victim_deinit(&stage.victim);
}

static void test_attach_without_end(void **state)
{
    struct stage stage;
    uint32_t number = 1;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    while (number < 100 && send_attach(&stage, number, LAYOUT_PAGE, LAYOUT_PAGE) == 0)
        number++;
    stage_over_tether(&stage, "byte rings without end");
    victim_deinit(&stage.victim);
}

static void test_attach_of_wrong_descriptors(void **state)
{
    struct frame attach = { .type = FRAME_ATTACH, .extension = 1, .bytes = LAYOUT_PAGE };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++) {
        int fd;

        stage_linked(&stage, VRD_RIGHT_SEND);
        fd = wrong->make();
        support_require_equal(raw_send_frame(stage.peer.tether, &attach, &fd, 1), 0);
        fd_close(&fd);
        stage_over_tether(&stage, wrong->name);
    }
    victim_deinit(&stage.victim);
}

static void test_frames_that_a_tether_does_not_carry(void **state)
{
    static const struct {
        const char *name;
        struct frame frame;
        size_t n_fds;
    } frames[] = {
        { "WELCOME", { .type = FRAME_WELCOME }, 1 },
        { "GREETING",
          { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = 1 },
          0 },
        { "DERIVE without GRANT", { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND }, 1 },
        { "CLOSE with a descriptor", { .type = FRAME_CLOSE }, 1 },
        { "ATTACH without one", { .type = FRAME_ATTACH, .extension = 1, .bytes = 1 }, 0 },
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        int fd;

        stage_linked(&stage, VRD_RIGHT_SEND);
        fd = dup(stage.invitation);
        support_require(fd >= 0);
        support_require_equal(
            raw_send_frame(stage.peer.tether, &frames[i].frame, &fd, frames[i].n_fds), 0);
        fd_close(&fd);
        stage_over_tether(&stage, frames[i].name);
    }
    victim_deinit(&stage.victim);
}

/* A holder of GRANT asks for more than it has, or for nothing that could be an invitation. */
static void test_derive_beyond_the_right(void **state)
{
    static const uint32_t rights[] = { VRD_RIGHT_SEND | VRD_RIGHT_REVOKE, VRD_RIGHT_RECEIVE,
                                       VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE };
    struct frame derive = { .type = FRAME_DERIVE };
    struct stage stage;
    int pair[2];

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < sizeof rights / sizeof rights[0]; i++) {
        derive.rights = rights[i];
        stage_linked(&stage, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
        support_socket_pair(pair);
        support_require_equal(raw_send_frame(stage.peer.tether, &derive, &pair[1], 1), 0);
        fd_close(&pair[1]);
        victim_pump_until_hung_up(&stage.victim, pair[0]);
        fd_close(&pair[0]);
        stage_over_tether(&stage, "DERIVE beyond the right");
    }
    derive.rights = VRD_RIGHT_SEND;
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        int fd;

        if (wrong->dead_socket)
            continue; /* an invitation that nobody will ever use: see below */
        stage_linked(&stage, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
        fd = wrong->make();
        support_require_equal(raw_send_frame(stage.peer.tether, &derive, &fd, 1), 0);
        fd_close(&fd);
        stage_over_tether(&stage, wrong->name);
    }
    victim_deinit(&stage.victim);
}

/* What a holder of GRANT passes on without SEND lets nobody send. */
static void test_an_invitation_without_send(void **state)
{
    struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_GRANT };
    struct stage stage;
    struct peer second;
    int pair[2];

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    support_socket_pair(pair);
    support_require_equal(raw_send_frame(stage.peer.tether, &derive, &pair[1], 1), 0);
    fd_close(&pair[1]);
    victim_pump(&stage.victim);
    peer_connect(&second, pair[0], VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_publish(&second, "no", 2);
    victim_pump_until_hung_up(&stage.victim, second.tether);
    peer_deinit(&second);
    fd_close(&pair[0]);
    fd_close(&stage.peer.tether);
    stage_over(&stage, stage.invitation, "an invitation without SEND");
    victim_deinit(&stage.victim);
}

/* Sockets in DERIVE that nobody can ever say HELLO over. */
static void test_derive_of_dead_sockets(void **state)
{
    struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        int fd;

        if (!wrong->dead_socket)
            continue;
        stage_linked(&stage, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
        fd = wrong->make();
        support_require_equal(raw_send_frame(stage.peer.tether, &derive, &fd, 1), 0);
        fd_close(&fd);
        victim_pump(&stage.victim);
        fd_close(&stage.peer.tether);
        stage_over(&stage, stage.invitation, "DERIVE of a dead socket");
    }
    victim_deinit(&stage.victim);
}

/* ---- descriptors that are slow to close ---------------------------------------------------------------------- */

/* A TCP socket whose last close waits for longer than any test: its peer reads nothing. */
static int lingering_socket(int *ret_peer)
{
    const struct linger linger = { .l_onoff = 1, .l_linger = 3600 };
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    static const char data[65536];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    support_require(listener >= 0 && fd >= 0);
    support_require(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    support_require(listen(listener, 1) == 0);
    support_require(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    support_require(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    *ret_peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    support_require(*ret_peer >= 0);
    fd_close(&listener);
    support_require(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    while (send(fd, data, sizeof data, MSG_DONTWAIT) > 0)
        ;
    return fd;
}

static void test_descriptors_that_wait_when_closed(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t n = 1; n <= 3; n++) { /* too few, in place of a segment, too many */
        int peers[3], fds[3];
        struct frame hello;

        stage_invited(&stage, VRD_RIGHT_SEND);
        hello = peer_hello(&stage.peer, VICTIM_MESSAGE_MAX);
        for (size_t i = 0; i < n; i++)
            fds[i] = lingering_socket(&peers[i]);
        support_require_equal(raw_send_frame(stage.invitation, &hello, fds, n), 0);
        for (size_t i = 0; i < n; i++)
            fd_close(&fds[i]); /* the victim's are the last */
        victim_pump_until_hung_up(&stage.victim, stage.invitation);
        for (size_t i = 0; i < n; i++)
            fd_close(&peers[i]);
        stage_over(&stage, stage.invitation, "sockets that linger");
    }
    victim_deinit(&stage.victim);
}

/* ---- floods ------------------------------------------------------------------------------------------------ */

static void test_more_rings_than_arms(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    while (raw_send(stage.peer.tether, "", 1, NULL, 0) == 0)
        ;
    stage_over_tether(&stage, "a flood of rings");

    stage_linked(&stage, VRD_RIGHT_SEND);
    support_require_equal(raw_send(stage.peer.tether, "", 1, &stage.peer.segment_fd, 1), 0);
    stage_over_tether(&stage, "a ring with a descriptor");
    victim_deinit(&stage.victim);
}

static void test_close_without_end(void **state)
{
    struct frame over = { .type = FRAME_CLOSE };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    for (size_t i = 0; i < support_iterations(20000); i++) {
        raw_send_frame(stage.peer.tether, &over, NULL, 0);
        if (i % 1000 == 0)
            victim_require_well(&stage.victim);
    }
    fd_close(&stage.peer.tether);
    stage_over(&stage, stage.invitation, "CLOSE without end");
    victim_deinit(&stage.victim);
}

/* ---- more than there is room for ------------------------------------------------------------------------- */

#define CROWD 300
#define CROWD_ROOM 60 /* descriptors that the victim has left for it */

struct crowd {
    struct stage stage;
    struct support_gate attacker_done, newcomer_may;
};

/* Says HELLO over its tether again and again, and keeps all that comes of it. It is done when the
 * victim has had its say on each: a WELCOME, or the end of the tether that came with it. */
static int attacker_run(void *arg)
{
    static struct peer peers[CROWD];
    struct crowd *crowd = arg;
    const struct rlimit many = { .rlim_cur = 4 * CROWD, .rlim_max = 4 * CROWD };

    support_require(setrlimit(RLIMIT_NOFILE, &many) == 0);
    for (size_t i = 0; i < CROWD; i++) {
        struct frame hello;

        peer_init(&peers[i], VICTIM_SLOTS);
        hello = peer_hello(&peers[i], VICTIM_MESSAGE_MAX);
        while (raw_send_frame(i == 0 ? crowd->stage.invitation : peers[0].tether, &hello,
                              (int[]){ peers[i].far, peers[i].segment_fd }, 2) == -EAGAIN)
            support_sleep_ms(1);
        fd_close(&peers[i].far);
    }
    for (size_t i = 0; i < CROWD; i++)
        fd_wait(peers[i].tether);
    support_gate_open(&crowd->attacker_done);
    while (true)
        support_sleep_ms(1000);
    return 0;
}

/* An honest sender that comes when there is no room, and tries again and again. */
static int newcomer_run(void *arg)
{
    struct crowd *crowd = arg;

    support_require_equal(vrd_cap_close(crowd->stage.victim.receive), 0);
    support_gate_wait(&crowd->newcomer_may);
    while (true) {
        const int result = vrd_send_timed(crowd->stage.victim.send, "here", 4, 0);

        support_require(result == 0 || result == VRD_ERR_PEER_GONE ||
                        result == VRD_ERR_CHANNEL_FULL);
        support_sleep_ms(2);
    }
    return 0;
}

/* The victim has no descriptor left for anybody. It keeps the links that it has, refuses others,
 * and is open for them again when the crowd is gone: nothing of this closes a door for good. */
static void test_more_links_than_descriptors(void **state)
{
    struct crowd crowd = { 0 };
    struct victim *victim = &crowd.stage.victim;
    struct rlimit old, few;
    pid_t attacker, newcomer;

    (void)state;
    victim_init(victim);
    support_gate_init(&crowd.attacker_done);
    support_gate_init(&crowd.newcomer_may);
    support_snapshot_take(&crowd.stage.before);
    crowd.stage.invitation = victim_invite(victim, VRD_RIGHT_SEND);
    raw_hung_up(crowd.stage.invitation);
    /* Before the attacker runs: the control thread accepts its links from then on. */
    support_require(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few = (struct rlimit){ .rlim_cur = support_count_fds() + CROWD_ROOM, .rlim_max = old.rlim_max };
    support_require(setrlimit(RLIMIT_NOFILE, &few) == 0);
    newcomer = support_child(newcomer_run, &crowd);
    attacker = support_child(attacker_run, &crowd);
    fd_close(&crowd.stage.invitation);
    while (!fd_readable(crowd.attacker_done.fd)) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
    support_gate_open(&crowd.newcomer_may);
    for (int i = 0; i < 100; i++) {
        victim_require_well(victim);
        support_sleep_ms(1);
    }
    assert_int_equal(victim->strange, 0);

    support_kill(attacker);
    while (victim->strange == 0) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
    victim_require_well(victim);
    support_kill(newcomer);
    victim_pump_until_alone(victim);
    assert_true(support_snapshot_holds(&crowd.stage.before));
    support_require(setrlimit(RLIMIT_NOFILE, &old) == 0);
    support_gate_deinit(&crowd.attacker_done);
    support_gate_deinit(&crowd.newcomer_may);
    victim_deinit(victim);
}

/* Not one descriptor is left when an honest sender comes. It is refused, and only it: when there is
 * room again, it comes in. */
static void test_no_room_for_a_newcomer(void **state)
{
    struct crowd crowd = { 0 };
    struct victim *victim = &crowd.stage.victim;
    struct rlimit old, none;
    pid_t newcomer;
    int free_fd;

    (void)state;
    victim_init(victim);
    support_gate_init(&crowd.newcomer_may);
    newcomer = support_child(newcomer_run, &crowd);
    support_snapshot_take(&crowd.stage.before);
    support_require(getrlimit(RLIMIT_NOFILE, &old) == 0);
    free_fd = dup(crowd.newcomer_may.fd);
    support_require(free_fd >= 0 && close(free_fd) == 0);
    none = (struct rlimit){ .rlim_cur = (rlim_t)free_fd, .rlim_max = old.rlim_max };
    support_require(setrlimit(RLIMIT_NOFILE, &none) == 0);

    support_gate_open(&crowd.newcomer_may);
    for (int i = 0; i < 100; i++) {
        victim_require_well(victim);
        support_sleep_ms(1);
    }
    assert_int_equal(victim->strange, 0);

    support_require(setrlimit(RLIMIT_NOFILE, &old) == 0);
    while (victim->strange == 0) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
    support_kill(newcomer);
    victim_pump_until_alone(victim);
    assert_true(support_snapshot_holds(&crowd.stage.before));
    support_gate_deinit(&crowd.newcomer_may);
    victim_deinit(victim);
}

/* Thousands of links one after the other, and the receiver is as it was. */
static void test_thousands_of_hellos(void **state)
{
    struct stage stage;
    struct peer peer;

    (void)state;
    victim_init(&stage.victim);
    stage_linked(&stage, VRD_RIGHT_SEND);
    for (size_t i = 0; i < support_iterations(3000); i++) {
        peer_connect(&peer, stage.peer.tether, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
        victim_pump(&stage.victim);
        peer_deinit(&peer);
        if (i % 500 == 0)
            victim_require_well(&stage.victim);
    }
    fd_close(&stage.peer.tether);
    stage_over(&stage, stage.invitation, "thousands of HELLOs");
    victim_deinit(&stage.victim);
}

/* A process that has no control thread yet, so that nobody reads the frames before the message is
 * looked at. */
static int busy_with_granting(void *unused)
{
    enum { GRANTS = 100 };
    static const uint8_t large[5000] = { 1 };
    struct victim victim;
    vrd_cap_t cap;
    int invitation;

    (void)unused;
    victim_init(&victim);
    support_require_equal(
        vrd_cap_import(victim_invite(&victim, VRD_RIGHT_SEND | VRD_RIGHT_GRANT), &cap), 0);
    support_require_equal(vrd_send(cap, "first", 5), 0);
    while (victim.strange == 0)
        victim_pump(&victim);
    for (size_t i = 0; i < GRANTS; i++)
        support_require_equal(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    support_require_equal(vrd_send(cap, large, sizeof large), 0);
    while (victim.strange == 1 && victim.corrupt == 0)
        victim_pump(&victim);
    support_require_equal(victim.corrupt, 0);
    support_require_equal(vrd_cap_close(cap), 0);
    victim_deinit(&victim);
    return 0;
}

/* An honest holder of GRANT that grants a lot: what it asked for stands before the byte ring that
 * its message needs, and is no reason to take it for a liar. */
static void test_attach_behind_many_frames(void **state)
{
    (void)state;
    support_wait_exit(support_child(busy_with_granting, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_frames_of_a_wrong_size),
                     SUPPORT_TEST(test_wrong_numbers_of_descriptors),
                     SUPPORT_TEST(test_each_byte_wrong),
                     SUPPORT_TEST(test_hello_with_wrong_values),
                     SUPPORT_TEST(test_other_frames_on_an_invitation),
                     SUPPORT_TEST(test_wrong_sockets),
                     SUPPORT_TEST(test_wrong_segments),
                     SUPPORT_TEST(test_sparse_segment_stays_sparse),
                     SUPPORT_TEST(test_an_invitation_works_once),
                     SUPPORT_TEST(test_an_invitation_closed_unused),
                     SUPPORT_TEST(test_attach_of_a_wrong_size),
                     SUPPORT_TEST(test_attach_of_a_wrong_number),
                     SUPPORT_TEST(test_attach_twice),
                     SUPPORT_TEST(test_attach_without_end),
                     SUPPORT_TEST(test_attach_of_wrong_descriptors),
                     SUPPORT_TEST(test_frames_that_a_tether_does_not_carry),
                     SUPPORT_TEST(test_derive_beyond_the_right),
                     SUPPORT_TEST(test_an_invitation_without_send),
                     SUPPORT_TEST(test_derive_of_dead_sockets),
                     SUPPORT_TEST(test_descriptors_that_wait_when_closed),
                     SUPPORT_TEST(test_more_rings_than_arms),
                     SUPPORT_TEST(test_close_without_end),
                     SUPPORT_TEST(test_more_links_than_descriptors),
                     SUPPORT_TEST(test_no_room_for_a_newcomer),
                     SUPPORT_TEST(test_thousands_of_hellos),
                     SUPPORT_TEST(test_attach_behind_many_frames),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
