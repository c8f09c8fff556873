/* SPDX-License-Identifier: MIT */
/*
 * error.h - what can go wrong, in numbers and in words.
 *
 * The values look like -errno and are not: VRD_ERR_OUT_OF_MEMORY is -5, EIO is 5. Use
 * vrd_error_to_errno() where an errno is wanted. The first sixteen are those of the VeridianOS IPC
 * interface, the others are ours.
 */
#ifndef VERIDIAN_ERROR_H
#define VERIDIAN_ERROR_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_OK 0
#define VRD_ERR_INVALID_CAPABILITY (-1)     /* no such capability here: closed, stale or forged   */
#define VRD_ERR_PROCESS_NOT_FOUND (-2)      /* no process with that pid                           */
#define VRD_ERR_ENDPOINT_NOT_FOUND (-3)     /* nothing answers to that name                       */
#define VRD_ERR_MESSAGE_TOO_LARGE (-4)      /* over the channel's limit, or over the buffer       */
#define VRD_ERR_OUT_OF_MEMORY (-5)          /* memory or descriptors ran out                      */
#define VRD_ERR_WOULD_BLOCK (-6)            /* reserved, never returned                           */
#define VRD_ERR_RATE_LIMIT_EXCEEDED (-7)    /* the owner's limit; try again later                 */
#define VRD_ERR_TIMEOUT (-8)                /* waited for as long as was asked                    */
#define VRD_ERR_PERMISSION_DENIED (-9)      /* the capability lacks the right                     */
#define VRD_ERR_INVALID_MESSAGE (-10)       /* a message description that contradicts itself      */
#define VRD_ERR_CHANNEL_FULL (-11)          /* no room now, and the call was not to wait          */
#define VRD_ERR_CHANNEL_EMPTY (-12)         /* no message now, and the call was not to wait       */
#define VRD_ERR_ENDPOINT_BUSY (-13)         /* too many calls pending                             */
#define VRD_ERR_INVALID_MEMORY_REGION (-14) /* not a region, or not one with these properties    */
#define VRD_ERR_RESOURCE_BUSY (-15)         /* cannot be moved or changed while it is in use      */
#define VRD_ERR_NOT_INITIALIZED (-16)       /* used before what it needs was set up               */
#define VRD_ERR_PEER_GONE (-17)             /* the other side closed, exited or was killed        */
#define VRD_ERR_REVOKED (-18)               /* the owner took the right back                      */
#define VRD_ERR_PEER_CORRUPT (-19)          /* the other side broke the protocol; link closed     */
#define VRD_ERR_QUOTA_EXCEEDED (-20)        /* a limit on descriptors, links or bytes             */
#define VRD_ERR_INVALID_ARGUMENT (-21)      /* an argument is out of its documented range         */
#define VRD_ERR_NOT_SUPPORTED (-22)         /* this kernel or this build cannot do it             */
#define VRD_ERR_NO_BROKER (-23)             /* the operation needs the broker and there is none   */
#define VRD_ERR_NAME_IN_USE (-24)           /* a live owner has published this name               */
#define VRD_ERR_SYSTEM (-25)                /* an unexpected system error; errno says which       */

#define VRD_ERR_QUEUE_FULL VRD_ERR_CHANNEL_FULL
#define VRD_ERR_QUEUE_EMPTY VRD_ERR_CHANNEL_EMPTY

/* The library's version, "MAJOR.MINOR.PATCH". Static string. */
VRD_API const char *vrd_version(void);

/* A sentence for `err`; "unknown error" for a number that is none of ours. Static string. */
VRD_API const char *vrd_strerror(int err);

/* The identifier of `err`, such as "VRD_ERR_PEER_GONE"; NULL for an unknown number. Static string. */
VRD_API const char *vrd_error_name(int err);

/* The nearest errno (positive) for `err`; 0 for values >= 0, EIO for an unknown number. */
VRD_API int vrd_error_to_errno(int err);

VRD_END_DECLS

#endif
