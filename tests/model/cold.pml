/*
 * A cold link: the reader does not poll it, the sender rings one byte on the tether.
 *
 *   sender   send: store the slot word of position p (plain), compiler barrier, load the reader's
 *            mark; if the mark names p, send one byte on the tether. May stop for ever after any
 *            send.
 *   reader   polls the link while it is hot. When it goes quiet: mark = position awaited, fence,
 *            read the clock, look again, look once more when 10 ms have passed, and only then stop
 *            polling. A byte, early or late, makes the link hot again, and so does what a look
 *            finds.
 *   hardware the store buffers. A system call (the byte) empties the sender's.
 *
 * Nobody clears the mark; 0 is no mark, so that no position is awaited before the first arm.
 *
 * Property: when nothing can move any more, the sender has stopped by its own choice and the reader
 * has taken every message. And an honest sender never sends more bytes than there were arms, when
 * arms at the position that is marked already are not counted again (more bytes are PEER_CORRUPT).
 *
 * Broken on purpose: BROKEN_ONE_LOOK (stops polling right after fence and look), BROKEN_EARLY_BYTE
 * (a byte that comes before the 10 ms are over is taken and the link goes cold all the same),
 * BROKEN_RING_FIRST (looks at the mark before it publishes), BROKEN_RING_TWICE (rings for any
 * position from the marked one on).
 */
#ifndef MESSAGES
#define MESSAGES 6
#endif
#define N 2

#define WORD(pos) ((pos) % N)
#define CURSOR N
#define MARK (N + 1)
#define WORDS (N + 2)

#define S 0
#define R 1
#define THREADS 2
#define DEPTH (N + 1)

#include "tso.pml"

byte bytes; /* on the tether, not read yet */
byte rung;  /* ghosts */
byte arms;
byte sent;
byte taken;
bool stopped;

inline ring_if_marked(pos)
{
    mark = mem[MARK];
    if
#ifdef BROKEN_RING_TWICE
    :: mark != 0 && mark <= pos + 1 ->
#else
    :: mark == pos + 1 ->
#endif
        atomic {
            fence(S);
            bytes++;
            rung++;
            assert(rung <= arms)
        }
    :: else
    fi;
    mark = 0
}

proctype sender()
{
    byte pos, mark;

    do
    :: pos < MESSAGES ->
        pos - mem[CURSOR] < N; /* polls */
#ifdef BROKEN_RING_FIRST
        ring_if_marked(pos);
#endif
        atomic { store(S, WORD(pos), pos + 1); sent = pos + 1 }
#ifndef BROKEN_RING_FIRST
        ring_if_marked(pos);
#endif
        pos++
    :: break
    od;
    stopped = true
}

proctype reader()
{
    byte pos, got, marked;

hot:
    do
    :: got = mem[WORD(pos)];
        if
        :: got == pos + 1 ->
            taken = pos + 1;
            store(R, CURSOR, pos + 1);
            pos++
        :: else -> break
        fi
    od;

    if
    :: marked != pos + 1 -> atomic { marked = pos + 1; arms++ }
    :: else
    fi;
    store(R, MARK, pos + 1);
    fence(R);
    clock_read(S);
    if
    :: mem[WORD(pos)] == pos + 1 -> clock_forget(S); goto hot
    :: else
    fi;
#ifndef BROKEN_ONE_LOOK
    if
    :: pending[S] == 0 ->
        if
        :: mem[WORD(pos)] == pos + 1 -> goto hot
        :: else
        fi
    :: atomic { bytes > 0 -> bytes--; clock_forget(S) }
#ifndef BROKEN_EARLY_BYTE
        goto hot
#endif
    fi;
#endif

    atomic { bytes > 0 -> bytes--; clock_forget(S) } /* cold: no look until a byte comes */
    goto hot
}

proctype hardware()
{
    do
    :: d_step { len(sb[S]) > 0 -> commit(S) }
    :: d_step { len(sb[R]) > 0 -> commit(R) }
    od
}

/* The search runs with pan -E: what is allowed to be stuck is said here, for the whole system. */
proctype watch()
{
    timeout -> assert(stopped && taken == sent) /* no lost byte */
}

init { atomic { run sender(); run reader(); run hardware(); run watch() } }
