/* SPDX-License-Identifier: MIT */
/* The numbers, names, sentences and errnos of errors. */
#include "unit/unit.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <veridian/error.h>

#include "base/error.h"

/* The numbers are an interface: they are written out here on purpose. */
static const struct {
    int value, number;
    const char *name;
} table[] = {
    { -1, EBADF, "VRD_ERR_INVALID_CAPABILITY" },
    { -2, ESRCH, "VRD_ERR_PROCESS_NOT_FOUND" },
    { -3, ENOENT, "VRD_ERR_ENDPOINT_NOT_FOUND" },
    { -4, EMSGSIZE, "VRD_ERR_MESSAGE_TOO_LARGE" },
    { -5, ENOMEM, "VRD_ERR_OUT_OF_MEMORY" },
    { -6, EWOULDBLOCK, "VRD_ERR_WOULD_BLOCK" },
    { -7, EBUSY, "VRD_ERR_RATE_LIMIT_EXCEEDED" },
    { -8, ETIMEDOUT, "VRD_ERR_TIMEOUT" },
    { -9, EACCES, "VRD_ERR_PERMISSION_DENIED" },
    { -10, EBADMSG, "VRD_ERR_INVALID_MESSAGE" },
    { -11, EAGAIN, "VRD_ERR_CHANNEL_FULL" },
    { -12, EAGAIN, "VRD_ERR_CHANNEL_EMPTY" },
    { -13, EBUSY, "VRD_ERR_ENDPOINT_BUSY" },
    { -14, EFAULT, "VRD_ERR_INVALID_MEMORY_REGION" },
    { -15, EBUSY, "VRD_ERR_RESOURCE_BUSY" },
    { -16, EINVAL, "VRD_ERR_NOT_INITIALIZED" },
    { -17, EPIPE, "VRD_ERR_PEER_GONE" },
    { -18, EKEYREVOKED, "VRD_ERR_REVOKED" },
    { -19, EPROTO, "VRD_ERR_PEER_CORRUPT" },
    { -20, EDQUOT, "VRD_ERR_QUOTA_EXCEEDED" },
    { -21, EINVAL, "VRD_ERR_INVALID_ARGUMENT" },
    { -22, EOPNOTSUPP, "VRD_ERR_NOT_SUPPORTED" },
    { -23, ENOTCONN, "VRD_ERR_NO_BROKER" },
    { -24, EADDRINUSE, "VRD_ERR_NAME_IN_USE" },
    { -25, EIO, "VRD_ERR_SYSTEM" },
};

#define ERRORS ((int)(sizeof table / sizeof table[0]))

static void each_has_a_name_a_sentence_and_an_errno(void **state)
{
    (void)state;
    for (int i = 0; i < ERRORS; i++) {
        const char *text = vrd_strerror(table[i].value);

        assert_int_equal(table[i].value, -(i + 1));
        assert_string_equal(vrd_error_name(table[i].value), table[i].name);
        assert_int_equal(vrd_error_to_errno(table[i].value), table[i].number);
        assert_true(strlen(text) > 5);
        assert_string_not_equal(text, "unknown error");
        for (int k = 0; k < i; k++)
            assert_string_not_equal(text, vrd_strerror(table[k].value));
    }
}

static void success_is_no_error(void **state)
{
    (void)state;
    assert_int_equal(VRD_OK, 0);
    assert_string_equal(vrd_error_name(VRD_OK), "VRD_OK");
    assert_string_equal(vrd_strerror(VRD_OK), "success");
    assert_int_equal(vrd_error_to_errno(VRD_OK), 0);
    assert_int_equal(vrd_error_to_errno(1), 0);
    assert_int_equal(vrd_error_to_errno(INT_MAX), 0);
}

static void unknown_numbers_are_answered(void **state)
{
    static const int unknown[] = { 1, 2, INT_MAX, -(ERRORS + 1), -1000, INT_MIN + 1, INT_MIN };

    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(vrd_strerror(unknown[i]), "unknown error");
        assert_null(vrd_error_name(unknown[i]));
        assert_int_equal(vrd_error_to_errno(unknown[i]), unknown[i] < 0 ? EIO : 0);
    }
}

static void asking_leaves_errno_alone(void **state)
{
    (void)state;
    errno = 4711;
    for (int value = -(ERRORS + 1); value <= 1; value++) {
        vrd_strerror(value);
        vrd_error_name(value);
        vrd_error_to_errno(value);
    }
    assert_int_equal(errno, 4711);
}

static void guide_names_are_the_same_numbers(void **state)
{
    (void)state;
    assert_int_equal(VRD_ERR_QUEUE_FULL, VRD_ERR_CHANNEL_FULL);
    assert_int_equal(VRD_ERR_QUEUE_EMPTY, VRD_ERR_CHANNEL_EMPTY);
}

static void system_errors_become_ours(void **state)
{
    static const struct {
        int number, value;
    } known[] = {
        { ENOMEM, VRD_ERR_OUT_OF_MEMORY },
        { EMFILE, VRD_ERR_OUT_OF_MEMORY },
        { ENFILE, VRD_ERR_OUT_OF_MEMORY },
        { ENOSPC, VRD_ERR_OUT_OF_MEMORY },
        { ETOOMANYREFS, VRD_ERR_QUOTA_EXCEEDED },
        { EDQUOT, VRD_ERR_QUOTA_EXCEEDED },
        { EPIPE, VRD_ERR_PEER_GONE },
        { ECONNRESET, VRD_ERR_PEER_GONE },
        { ENOTCONN, VRD_ERR_PEER_GONE },
        { ECONNREFUSED, VRD_ERR_PEER_GONE },
        { EPERM, VRD_ERR_SYSTEM },
        { EIO, VRD_ERR_SYSTEM },
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        errno = 0;
        assert_int_equal(error_from_errno(known[i].number), known[i].value);
        assert_int_equal(errno, known[i].number);
    }
    for (int number = 1; number < 200; number++)
        assert_true(error_from_errno(number) < 0);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(each_has_a_name_a_sentence_and_an_errno),
                 SUPPORT_TEST(success_is_no_error),
                 SUPPORT_TEST(unknown_numbers_are_answered),
                 SUPPORT_TEST(asking_leaves_errno_alone),
                 SUPPORT_TEST(guide_names_are_the_same_numbers),
                 SUPPORT_TEST(system_errors_become_ours),
                 { 0 },
             })
