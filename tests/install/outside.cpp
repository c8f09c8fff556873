// SPDX-License-Identifier: MIT
#include "outside.h"

int main()
{
    return outside_main();
}
