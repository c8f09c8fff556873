/*
 * Sleeping and waking without a fence on the waking side, in both directions of one link.
 *
 *   writer   send of one message, or of a batch of two: store the slot words from position p on
 *            (plain), compiler barrier, load the reader's flag once (plain); futex wake only if the
 *            flag lies among the positions just published. Waits in the same way for the cursor
 *            when the ring is full. May stop sending for ever after any send.
 *   reader   receive: take the message, publish the cursor (plain), compiler barrier, load the
 *            writer's flag; futex wake only if it equals that cursor. Waits for the next slot word
 *            when the ring is empty.
 *   wait_for what both do to wait: flag = position awaited, fence, read the clock, look again,
 *            sleep at most 10 ms, look again, and only then sleep for good. It begins anew after
 *            every return that was not the pure timeout. (The 2 us for which the library looks
 *            again are one look here: more looks only find more.)
 *   HELLO    with this macro the owner (the reader) has not answered yet when the run begins, and
 *            the writer cannot see its segment: each send ends with one non-blocking read of the
 *            tether (a system call), and only when WELCOME was there the flag is looked at, in the
 *            same send. The reader sends WELCOME before it looks at the ring for the first time.
 *   signals  a few sleeps end early for no reason of ours.
 *   hardware the store buffers; a store that was in one at the clock reading has drained when the
 *            sleep of 10 ms runs to its end. Nothing else is assumed about time.
 *
 * Nobody ever clears a flag, and nobody remembers whether it has already woken. Positions wrap at
 * M, and the run has no end but the writer's choice to stop.
 *
 * Property: no lost wake-up. When nothing can move any more, the writer has stopped by its own
 * choice and the reader has taken every message that was sent. (A thread preempted at any point is
 * just an interleaving.) With pan -l also: no endless run in which the reader takes nothing.
 * Together: every message is received in the end.
 *
 * Broken on purpose: BROKEN_NO_BOUND (sleeps for good right after fence and look), BROKEN_CLOCK
 * (the clock is read before flag and fence), BROKEN_NO_FENCE (no fence between flag and clock),
 * BROKEN_NO_REARM (sleeps for good also after an early return), BROKEN_RUNG (the flag counts arms,
 * the waker keeps the last count that it rang for), BROKEN_WAKE_FIRST (looks at the flag before it
 * publishes), BROKEN_FRESH_WORD (the kernel compares with the word as it was after the look, not
 * with the one that was looked at); with HELLO: BROKEN_WELCOME_LATE (WELCOME is sent at any time,
 * whatever the reader is at), BROKEN_WELCOME_ONLY (the send that finds WELCOME leaves the flag to
 * the next one).
 */
#ifndef N
#define N 2
#endif
#define M (4 * N)

#define WORD(pos) ((pos) % N)
#define CURSOR N
#define FLAG(t) (N + 1 + (t)) /* awaited by t, in t's segment */
#define WORDS (N + 3)

#define distance(to, from) (((to) + M - (from)) % M)
#define next(pos) (((pos) + 1) % M)

#define W 0
#define R 1
#define THREADS 2
#define DEPTH (N + 2)

#include "tso.pml"

byte asleep[THREADS]; /* the word + 1 on which the kernel has queued the thread, or 0 */
byte signals = SIGNALS;

byte sent;  /* ghosts: positions */
byte taken;
bool stopped;

#ifdef BROKEN_FRESH_WORD
byte fresh[THREADS];
#define EXPECTED(t, expected) fresh[t]
#else
#define EXPECTED(t, expected) expected
#endif

#ifdef HELLO
bool welcome; /* on the tether */
#endif

/* A system call that compares and queues in one step; entering it empties the store buffer. */
inline futex_queue(t, word, expected)
{
#ifdef BROKEN_FRESH_WORD
    fresh[t] = mem[word];
#endif
    atomic {
        fence(t);
        if
        :: mem[word] == EXPECTED(t, expected) -> asleep[t] = word + 1
        :: else
        fi
    }
}

/* Until woken, or at once when the word had another value; or until a signal comes. */
inline sleep_for_good(t, word, expected)
{
    futex_queue(t, word, expected);
    if
    :: asleep[t] == 0
    :: atomic { asleep[t] != 0 && signals > 0 -> signals--; asleep[t] = 0 }
    fi
}

inline sleep_10_ms(t, word, expected, ret_timed_out)
{
    futex_queue(t, word, expected);
    if
    :: asleep[t] == 0
    :: atomic { asleep[t] != 0 && signals > 0 -> signals--; asleep[t] = 0 }
    :: atomic { asleep[t] != 0 && pending[1 - t] == 0 -> asleep[t] = 0; ret_timed_out = true }
    fi
}

inline futex_wake(t, word)
{
    atomic {
        fence(t);
        if
        :: asleep[1 - t] == word + 1 -> asleep[1 - t] = 0
        :: else
        fi
    }
}

/* Thread t waits until a word is not old any more: the other side writes it at `awaited`. */
inline wait_for(t, word, old, awaited)
{
    do
    ::
#ifdef BROKEN_CLOCK
        clock_read(1 - t);
#endif
#ifdef BROKEN_RUNG
        arms[t] = (arms[t] + 1) % 8;
        store(t, FLAG(t), arms[t]);
#else
        store(t, FLAG(t), awaited);
#endif
#ifndef BROKEN_NO_FENCE
        fence(t);
#endif
#ifndef BROKEN_CLOCK
        clock_read(1 - t);
#endif
        if
        :: mem[word] != old -> break
        :: else
        fi;
#ifndef BROKEN_NO_BOUND
        sleep_10_ms(t, word, old, timed_out);
        if
        :: mem[word] != old -> break
        :: else
        fi;
#else
        timed_out = true;
#endif
        clock_forget(1 - t);
        if
        :: timed_out -> timed_out = false; sleep_for_good(t, word, old)
#ifdef BROKEN_NO_REARM
        :: else -> sleep_for_good(t, word, old)
#else
        :: else
#endif
        fi
    od;
    atomic { timed_out = false; clock_forget(1 - t) }
}

#ifdef BROKEN_RUNG
byte arms[THREADS];
byte rung[THREADS];
#endif

/*
 * After the stores of n words from the one of position first on, in program order but without a
 * fence. The other side sleeps on the word that belongs to the position that it awaits.
 */
inline wake_if_awaited(t, first, n, word)
{
    flag = mem[FLAG(1 - t)];
    if
#ifdef BROKEN_RUNG
    :: flag != rung[t] -> atomic { fence(t); asleep[1 - t] = 0 } rung[t] = flag
#else
    :: distance(flag, first) < n -> futex_wake(t, word)
#endif
    :: else
    fi;
    flag = 0
}

inline publish(pos)
{
    atomic { store(W, WORD(pos), next(pos)); sent = next(pos) }
}

/* The end of a send. */
inline wake_reader(first, n)
{
#ifdef HELLO
    if
    :: welcomed -> wake_if_awaited(W, first, n, WORD(flag))
    :: !welcomed ->
        atomic { fence(W); welcomed = welcome }
#ifndef BROKEN_WELCOME_ONLY
        if
        :: welcomed -> wake_if_awaited(W, first, n, WORD(flag))
        :: else
        fi
#endif
    fi
#else
    wake_if_awaited(W, first, n, WORD(flag))
#endif
}

proctype writer()
{
    byte pos, seen, cursor, n, flag;
    bool timed_out;
#ifdef HELLO
    bool welcomed;
#endif

    do
    :: distance(pos, seen) < N ->
        n = 1;
#ifdef BROKEN_WAKE_FIRST
        wake_reader(pos, n);
#endif
        publish(pos);
        if
        :: distance(pos, seen) + 1 < N -> publish(next(pos)); n = 2
        :: skip
        fi;
#ifndef BROKEN_WAKE_FIRST
        wake_reader(pos, n);
#endif
        atomic { pos = (pos + n) % M; n = 0 }
    :: distance(pos, seen) == N ->
#ifdef HELLO
        atomic { welcome -> welcomed = true } /* waits at the tether */
#endif
        cursor = mem[CURSOR];
        if
        :: cursor != seen -> seen = cursor
        :: else -> wait_for(W, CURSOR, cursor, next(cursor))
        fi;
        cursor = 0
    :: break
    od;
    stopped = true
}

proctype reader()
{
    byte pos, got, flag;
    bool timed_out;

#if defined(HELLO) && !defined(BROKEN_WELCOME_LATE)
    atomic { fence(R); welcome = true }
#endif
    do
    :: got = mem[WORD(pos)];
        if
        :: got == next(pos) ->
progress:
            taken = next(pos);
            store(R, CURSOR, next(pos));
            wake_if_awaited(R, next(pos), 1, CURSOR);
            pos = next(pos)
        :: else -> wait_for(R, WORD(pos), got, pos)
        fi;
        got = 0
    od
}

#ifdef BROKEN_WELCOME_LATE
active proctype reactor() { welcome = true }
#endif

proctype hardware()
{
    do
    :: d_step { len(sb[W]) > 0 -> commit(W) }
    :: d_step { len(sb[R]) > 0 -> commit(R) }
    od
}

/* The search runs with pan -E: what is allowed to be stuck is said here, for the whole system. */
proctype watch()
{
    timeout -> assert(stopped && taken == sent) /* no lost wake-up */
}

init { atomic { run writer(); run reader(); run hardware(); run watch() } }
