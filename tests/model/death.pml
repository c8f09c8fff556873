/*
 * The end of a link: what was published is received before PEER_GONE, and PEER_GONE comes.
 *
 *   sender   sends at most MESSAGES messages as in sleep.pml, then closes.
 *   kernel   may kill the sender between any two steps. In either case the tether hangs up some
 *            time after the sender's last store has drained (the exit runs behind it on the same
 *            CPU).
 *   reactor  of the receiving process, told of the hang-up at any later time: posts it to the list,
 *            bumps the private word, wakes who sleeps on that. It also does so for an event of
 *            another link.
 *   reader   receive: samples the private word, adopts what was posted, then looks at the slot: a
 *            message is taken; none after the hang-up was adopted is PEER_GONE; else it arms its
 *            flag and sleeps on the slot word and the private word together, at most 10 ms first
 *            and then for good, as in sleep.pml. After every return it starts from the top.
 *   futex_waitv  compares and queues on one word after the other, not on both at once; a wake in
 *            between makes it return.
 *   hardware the store buffers of all three.
 *
 * A sender that waits for space when the reader dies is the same with the cursor word in the place
 * of the slot word: the private word has to be sampled before the look there, too.
 *
 * Property: the reader ends, with PEER_GONE, and has by then received all that was published, in
 * order. (A reader that sleeps for ever is an invalid end state.)
 *
 * Broken on purpose: BROKEN_NO_DRAIN (looks before it adopts: PEER_GONE without a look after the
 * hang-up), BROKEN_SAMPLE_LATE (samples the private word after the look), BROKEN_BUMP_FIRST (the
 * reactor bumps before it posts), BROKEN_NO_BUMP (posts and wakes only).
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#define OTHER_EVENTS 1

#define WORD(pos) (pos)
#define FLAG (MESSAGES + 1)
#define PRIVATE (MESSAGES + 2)
#define POSTED (MESSAGES + 3)
#define WORDS (MESSAGES + 4)

#define S 0
#define R 1
#define X 2
#define THREADS 3
#define DEPTH 3

#include "tso.pml"

/* The kernel's queues: bit 0 for the slot word slot_queued, bit 1 for the private word. */
#define ON_SLOT 1
#define ON_PRIVATE 2
byte queued;
byte slot_queued;
bool woken;
byte signals = SIGNALS;

byte published; /* ghost */
bool killed;
bool ended;
bool hung_up;

inline futex_wake(t, which, word)
{
    atomic {
        fence(t);
        if
        :: (queued & which) && (which == ON_PRIVATE || slot_queued == word) ->
            queued = 0;
            woken = true
        :: else
        fi
    }
}

inline futex_waitv_queue(pos, old, generation)
{
    atomic {
        fence(R);
        woken = mem[WORD(pos)] != old;
        if
        :: !woken -> queued = ON_SLOT; slot_queued = pos
        :: else
        fi
    }
    atomic {
        if
        :: !woken && mem[PRIVATE] == generation -> queued = ON_SLOT | ON_PRIVATE
        :: else -> queued = 0; woken = true
        fi
    }
}

inline sleep_for_good(pos, old, generation)
{
    futex_waitv_queue(pos, old, generation);
    if
    :: woken
    :: atomic { !woken && signals > 0 -> signals--; queued = 0 }
    fi
}

inline sleep_10_ms(pos, old, generation, ret_timed_out)
{
    futex_waitv_queue(pos, old, generation);
    if
    :: woken
    :: atomic { !woken && signals > 0 -> signals--; queued = 0 }
    :: atomic { !woken && pending[S] == 0 -> queued = 0; ret_timed_out = true }
    fi
}

proctype sender()
{
    byte pos, flag;

    {
        do
        :: pos < MESSAGES ->
            atomic { store(S, WORD(pos), pos + 1); published = pos + 1 }
            flag = mem[FLAG];
            if
            :: flag == pos -> futex_wake(S, ON_SLOT, WORD(pos))
            :: else
            fi;
            atomic { flag = 0; pos++ }
        :: break
        od
    } unless {
        killed
    }
    ended = true
}

proctype kernel()
{
    if
    :: killed = true
    :: skip
    fi;
    ended && len(sb[S]) == 0;
    hung_up = true
}

proctype reactor()
{
    byte bumps, others;
    bool told;

    do
    :: others < OTHER_EVENTS ->
        atomic { others++; bumps++; store(X, PRIVATE, bumps) }
        futex_wake(X, ON_PRIVATE, PRIVATE)
    :: hung_up && !told ->
        told = true;
#ifdef BROKEN_BUMP_FIRST
        atomic { bumps++; store(X, PRIVATE, bumps) }
        store(X, POSTED, 1);
#else
        store(X, POSTED, 1);
#ifndef BROKEN_NO_BUMP
        atomic { bumps++; store(X, PRIVATE, bumps) }
#endif
#endif
        futex_wake(X, ON_PRIVATE, PRIVATE)
    :: told && others == OTHER_EVENTS -> break
    od
}

proctype reader()
{
    byte pos, got, generation;
    bool gone, timed_out;

    do
    ::
#ifndef BROKEN_SAMPLE_LATE
        generation = mem[PRIVATE];
#endif
#ifdef BROKEN_NO_DRAIN
        got = mem[WORD(pos)];
        gone = mem[POSTED];
#else
        gone = mem[POSTED];
        got = mem[WORD(pos)];
#endif
        if
        :: got == pos + 1 -> pos++
        :: got != pos + 1 && gone -> break /* PEER_GONE */
        :: got != pos + 1 && !gone ->
#ifdef BROKEN_SAMPLE_LATE
            generation = mem[PRIVATE];
#endif
            store(R, FLAG, pos);
            fence(R);
            clock_read(S);
            if
            :: mem[WORD(pos)] == got ->
                sleep_10_ms(pos, got, generation, timed_out);
                if
                :: timed_out && mem[WORD(pos)] == got -> sleep_for_good(pos, got, generation)
                :: else
                fi
            :: else
            fi;
            atomic { clock_forget(S); timed_out = false; woken = false; slot_queued = 0 }
        fi;
        atomic { got = 0; generation = 0 }
    od;
    assert(pos == published)
}

proctype hardware()
{
end:
    do
    :: d_step { len(sb[S]) > 0 -> commit(S) }
    :: d_step { len(sb[R]) > 0 -> commit(R) }
    :: d_step { len(sb[X]) > 0 -> commit(X) }
    od
}

init { atomic { run sender(); run kernel(); run reactor(); run reader(); run hardware() } }
