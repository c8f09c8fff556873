/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stddef.h>
#include <veridian/error.h>

#include "base/macro.h"

struct error {
    const char *name, *text;
    int number; /* nearest errno */
};

#define ERROR(id, nearest, sentence) \
    [-(VRD_ERR_##id)] = { .name = "VRD_ERR_" #id, .text = (sentence), .number = (nearest) }

static const struct error errors[] = {
    [0] = { .name = "VRD_OK", .text = "success", .number = 0 },
    ERROR(INVALID_CAPABILITY, EBADF, "no such capability in this process"),
    ERROR(PROCESS_NOT_FOUND, ESRCH, "no such process"),
    ERROR(ENDPOINT_NOT_FOUND, ENOENT, "nothing answers to that name"),
    ERROR(MESSAGE_TOO_LARGE, EMSGSIZE, "message too large"),
    ERROR(OUT_OF_MEMORY, ENOMEM, "out of memory or descriptors"),
    ERROR(WOULD_BLOCK, EWOULDBLOCK, "operation would block"),
    ERROR(RATE_LIMIT_EXCEEDED, EBUSY, "rate limit exceeded"),
    ERROR(TIMEOUT, ETIMEDOUT, "timed out"),
    ERROR(PERMISSION_DENIED, EACCES, "the capability lacks the right"),
    ERROR(INVALID_MESSAGE, EBADMSG, "invalid message"),
    ERROR(CHANNEL_FULL, EAGAIN, "channel full"),
    ERROR(CHANNEL_EMPTY, EAGAIN, "channel empty"),
    ERROR(ENDPOINT_BUSY, EBUSY, "too many calls pending"),
    ERROR(INVALID_MEMORY_REGION, EFAULT, "invalid memory region"),
    ERROR(RESOURCE_BUSY, EBUSY, "resource in use"),
    ERROR(NOT_INITIALIZED, EINVAL, "not initialized"),
    ERROR(PEER_GONE, EPIPE, "the other side is gone"),
    ERROR(REVOKED, EKEYREVOKED, "the capability was revoked"),
    ERROR(PEER_CORRUPT, EPROTO, "the other side broke the protocol"),
    ERROR(QUOTA_EXCEEDED, EDQUOT, "quota exceeded"),
    ERROR(INVALID_ARGUMENT, EINVAL, "invalid argument"),
    ERROR(NOT_SUPPORTED, EOPNOTSUPP, "not supported here"),
    ERROR(NO_BROKER, ENOTCONN, "no broker"),
    ERROR(NAME_IN_USE, EADDRINUSE, "name in use"),
    ERROR(SYSTEM, EIO, "system error"),
};

static const struct error *error_find(int err)
{
    if (err > 0 || err <= -(int)ARRAY_SIZE(errors))
        return NULL;
    return &errors[-err];
}

const char *vrd_strerror(int err)
{
    const struct error *error = error_find(err);

    return error ? error->text : "unknown error";
}

const char *vrd_error_name(int err)
{
    const struct error *error = error_find(err);

    return error ? error->name : NULL;
}

int vrd_error_to_errno(int err)
{
    const struct error *error = error_find(err);

    if (err >= 0)
        return 0;
    return error ? error->number : EIO;
}

int error_from_errno(int error)
{
    errno = error;
    switch (error) {
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
        return VRD_ERR_OUT_OF_MEMORY;
    case ETOOMANYREFS: /* descriptors in flight, counted for each user */
    case EDQUOT:
        return VRD_ERR_QUOTA_EXCEEDED;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ECONNREFUSED:
        return VRD_ERR_PEER_GONE;
    default:
        return VRD_ERR_SYSTEM;
    }
}
