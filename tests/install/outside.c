/* SPDX-License-Identifier: MIT */
#include "outside.h"

int main(void)
{
    return outside_main();
}
