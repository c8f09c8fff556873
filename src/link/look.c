/* SPDX-License-Identifier: MIT */
#include "link/look.h"

#include "base/macro.h"

/*
 * The loop that everybody would write ends in a branch which the processor guesses wrong, since it
 * went the other way each time before. Then all that follows - the copy, the return, the caller's
 * answer - only begins to be fetched when the word has arrived.
 *
 * Here each look is a call, and a processor believes that a call returns behind itself: to the end
 * of this function, with the word. While the word is on its way it already works on what follows,
 * down to fetching the line that the caller's answer goes to; when the word is there, that is done.
 * If it was not there, the look returns to the next one instead: this is what was guessed wrong, and
 * costs nothing, because there is nothing to do but to look again.
 *
 * Return addresses are changed, so there is no place for this under a shadow stack; and a sanitizer
 * wants to see the load.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !(defined(__CET__) && (__CET__ & 2))

_Static_assert(offsetof(struct slot, word) == 0, "as loaded below");

/* A plain load is an acquire here. */
__attribute__((naked)) uint64_t slot_await(const struct slot *slot __attribute__((unused)),
                                           uint32_t sequence __attribute__((unused)),
                                           int looks __attribute__((unused)))
{
    __asm__("0:  call 1f\n"
            "    ret\n"
            "1:  .cfi_adjust_cfa_offset 8\n"
            "    mov (%rdi), %rax\n"
            "    lea 2f(%rip), %rcx\n"
            "    cmp %esi, %eax\n"
            "    cmove (%rsp), %rcx\n"
            "    mov %rcx, (%rsp)\n"
            "    ret\n"
            "2:  .cfi_adjust_cfa_offset -8\n"
            "    dec %edx\n"
            "    jnz 0b\n"
            "    ret\n");
}

#else

uint64_t slot_await(const struct slot *slot, uint32_t sequence, int looks)
{
    uint64_t word;

    do {
        word = __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
        if ((uint32_t)word == sequence)
            break;
        cpu_look_again();
    } while (--looks > 0);
    return word;
}

#endif
