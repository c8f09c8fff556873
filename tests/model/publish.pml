/*
 * Publishing a message and giving its slot back: one sender, one reader, a ring of N slots.
 *
 *   sender   send of a message: look whether the slot at the private position is free (distance of
 *            the position from a private copy of the cursor, re-read only when that copy says
 *            full), write the payload words in any order, then the slot word = position + 1. Plain
 *            stores. Behind a message it may take back the line of a free slot further on, with a
 *            store that means nothing. Many messages in one call are no more than that.
 *   reader   receive: poll the word of the slot at the private position, copy the payload, then
 *            publish the cursor. Plain stores. Of several messages in one call, it publishes the
 *            cursor behind any of them, but behind the last that is there.
 *   kernel   may kill the sender between any two steps (or never); the reader sees the hang-up at
 *            some time after everything that the sender had stored has drained.
 *   hardware the store buffers of both.
 *
 * Positions run freely and wrap at M (2^32 in the library); the run never ends by itself, so the
 * search covers rings that have gone round any number of times.
 *
 * Property: every message is taken once, in order and whole; no store reaches a slot whose message
 * the reader has not copied; the cursor always passes the sender's check of it; nobody gets stuck;
 * after the death of the sender the reader takes all that was published, and then ends.
 *
 * Broken on purpose: BROKEN_WORD_FIRST (slot word before the payload), BROKEN_CURSOR_FIRST (cursor
 * before the copy), BROKEN_FULL (one message too many in the ring), BROKEN_NO_DRAIN (the reader
 * believes the hang-up without looking at the ring once more), BROKEN_TAKES_LINE (of a slot that is
 * not free), BROKEN_BATCH_FIRST (the cursor of two messages before the copy of the second),
 * BROKEN_BATCH_LAST (no cursor behind the last message that is there).
 */
#ifndef N
#define N 2
#endif
#define M (4 * N)

#define WORD(pos) ((pos) % N)
#define PAYLOAD(pos, w) (N + 2 * ((pos) % N) + (w))
#define CURSOR (3 * N)
#define WORDS (3 * N + 1)

#define distance(to, from) (((to) + M - (from)) % M)
#define next(pos) (((pos) + 1) % M)

#define S 0
#define R 1
#define THREADS 2
#define DEPTH (3 * N)

#ifdef BROKEN_FULL
#define SPACE (N + 1)
#else
#define SPACE N
#endif

#ifdef BROKEN_TAKES_LINE
#define AHEAD (N + 1)
#else
#define AHEAD N
#endif

byte published; /* ghost: position after the last slot word that was stored */
byte copied;    /* ghost: position after the last message that the reader has copied */

/*
 * The slot word and both payload words of a message hold its position + 1, what takes its line back that
 * + M + 1: when one of them reaches a slot, the message that was there a lap ago must have been copied, and
 * this one not yet.
 */
#define nothing(pos) (M + 1 + (pos))
#define meant(v) ((v) > M -> (v) - M - 1 : (v) + M - 1)
#define on_commit(t, a, v) assert(t == R || distance(meant(v), copied) < N)

#include "tso.pml"

bool killed;
bool gone;

proctype sender()
{
    byte pos, cursor, seen, w;

    {
        do
        :: distance(pos, seen) < SPACE ->
#ifdef BROKEN_WORD_FIRST
            atomic { store(S, WORD(pos), next(pos)); published = next(pos) }
#endif
            if
            :: w = 0
            :: w = 1
            fi;
            store(S, PAYLOAD(pos, w), next(pos));
            store(S, PAYLOAD(pos, 1 - w), next(pos));
#ifndef BROKEN_WORD_FIRST
            atomic { store(S, WORD(pos), next(pos)); published = next(pos) }
#endif
            w = 0;
            if
            :: distance(next(pos), seen) < AHEAD ->
                store(S, PAYLOAD(next(pos), 0), nothing(next(pos)))
            :: skip
            fi;
            pos = next(pos)
        :: distance(pos, seen) >= SPACE ->
            mem[CURSOR] != seen; /* polls */
            cursor = mem[CURSOR];
            assert(distance(pos, cursor) <= SPACE); /* else PEER_CORRUPT */
            atomic { seen = cursor; cursor = 0 }
        od
    } unless {
        killed
    }
}

proctype reader()
{
    byte pos, one, two;

    do
    :: mem[WORD(pos)] == next(pos) ->
#ifdef BROKEN_CURSOR_FIRST
        store(R, CURSOR, next(pos));
#endif
        one = mem[PAYLOAD(pos, 0)];
        atomic { two = mem[PAYLOAD(pos, 1)]; copied = next(pos) }
        assert(one == next(pos) && two == next(pos)); /* whole and in order */
        atomic { one = 0; two = 0 }
#ifndef BROKEN_CURSOR_FIRST
        if
        :: store(R, CURSOR, next(pos))
#ifdef BROKEN_BATCH_LAST
        :: skip
#else
        :: mem[WORD(next(pos))] == next(next(pos)) ->
#ifdef BROKEN_BATCH_FIRST
            store(R, CURSOR, next(next(pos)))
#else
            skip
#endif
#endif
        fi;
#endif
        pos = next(pos)
    :: gone -> /* the hang-up is seen first, then the ring is looked at */
#ifdef BROKEN_NO_DRAIN
        break
#endif
        if
        :: mem[WORD(pos)] != next(pos) -> break
        :: else
        fi
    od;
    assert(pos == published)
}

proctype kernel()
{
    if
    :: skip
    :: killed = true;
       len(sb[S]) == 0;
       gone = true
    fi
}

proctype hardware()
{
end:
    do
    :: d_step { len(sb[S]) > 0 -> commit(S) }
    :: d_step { len(sb[R]) > 0 -> commit(R) }
    od
}

init { atomic { run sender(); run reader(); run kernel(); run hardware() } }
