/* SPDX-License-Identifier: MIT */
/*
 * ipc.h - all of libveridian-ipc.
 */
#ifndef VERIDIAN_IPC_H
#define VERIDIAN_IPC_H

#include <veridian/async_channel.h>
#include <veridian/capability.h>
#include <veridian/channel.h>
#include <veridian/endpoint.h>
#include <veridian/error.h>
#include <veridian/inbox.h>
#include <veridian/loan.h>
#include <veridian/message.h>
#include <veridian/name.h>
#include <veridian/process.h>
#include <veridian/region.h>
#include <veridian/syscall.h>
#include <veridian/types.h>
#include <veridian/waitset.h>

#endif
