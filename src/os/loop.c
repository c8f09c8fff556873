/* SPDX-License-Identifier: MIT */
#include "os/loop.h"

int loop_open(struct loop **ret)
{
    return loop_epoll.open(ret);
}
