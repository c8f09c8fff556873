/*
 * The biased pin: threads of one process take turns at a capability; the usual path has no locked
 * instruction.
 *
 *   user     pin, fast: busy = object (plain), compiler barrier, bias == me? (plain load), work,
 *            busy = 0 (plain). pin, slow, when the bias is not mine: busy = 0, lock the mutex; if
 *            some thread has the bias: bias = nobody, membarrier, wait until that thread's busy is
 *            not this object. Work, unlock. Or, any time it holds the mutex, give itself the bias:
 *            after the work, or before it and then the work is done outside of the mutex, with busy
 *            set.
 *   closer   (CLOSE) takes the bias away in the same way and advances the object's generation,
 *            which every user compares with its handle's once it holds the pin.
 *   membarrier  the private expedited one: every other thread of the process passes a full fence at
 *            some point during the call, one after the other, not all at once.
 *   hardware the store buffers. The mutex's unlock is a plain store, too.
 *
 * Work is a load and a store of an ordinary variable. Users go on for ever or stop after any use.
 *
 * Property: one worker at a time, and each sees what the one before it wrote; nobody works on an
 * object of a later generation; no deadlock. With pan -l also: no endless run without work.
 *
 * Broken on purpose: BROKEN_NO_MEMBARRIER, BROKEN_NO_BUSY (does not look at busy),
 * BROKEN_BIAS_NO_BUSY (works on a bias that it gave itself without busy), BROKEN_CHECK_FIRST (looks
 * at the bias before it sets busy), BROKEN_OLD_GENERATION (CLOSE: compares the generation before it
 * holds the pin).
 */
#define BIAS 0 /* thread + 1, or nobody */
#define MUTEX 1
#define DATA 2
#define GENERATION 3
#define BUSY(t) (4 + (t))
#define WORDS 7

#define THREADS 3
#define DEPTH 4

#define NOBODY 0

#include "tso.pml"

bool working; /* ghosts */
bool closed;
bit truth;

inline lock(t)
{
    atomic { mem[MUTEX] == 0 -> fence(t); mem[MUTEX] = 1 }
}

inline unlock(t) { store(t, MUTEX, 0) }

inline membarrier(t)
{
    fence(t);
    fence((t + 1) % THREADS);
    fence((t + 2) % THREADS)
}

/* Under the mutex. */
inline bias_take(t)
{
    load_own(t, BIAS, bias);
    if
    :: bias != NOBODY ->
        assert(bias != t + 1);
        store(t, BIAS, NOBODY);
#ifndef BROKEN_NO_MEMBARRIER
        membarrier(t);
#endif
#ifndef BROKEN_NO_BUSY
        mem[BUSY(bias - 1)] == 0; /* polls */
#endif
        bias = NOBODY
    :: else
    fi
}

/* With the pin. */
inline work(t)
{
    skip;
#ifndef BROKEN_OLD_GENERATION
    load_own(t, GENERATION, value);
    if
    :: value != 0 -> stale = true
    :: else
    fi;
#endif
    if
    :: !stale ->
        atomic { assert(!working && !closed); working = true }
progress:
        load_own(t, DATA, value);
        assert(value == truth);
        atomic { truth = 1 - truth; store(t, DATA, truth) }
        atomic { working = false; value = 0 }
    :: else
    fi
}

proctype user(byte t)
{
    byte bias, value;
    bool stale;

    do
    :: !stale ->
#ifdef BROKEN_OLD_GENERATION
        load_own(t, GENERATION, value);
        stale = value != 0;
#endif
#ifdef BROKEN_CHECK_FIRST
        load_own(t, BIAS, bias);
        store(t, BUSY(t), 1);
#else
        store(t, BUSY(t), 1);
        load_own(t, BIAS, bias);
#endif
        if
        :: bias == t + 1 -> work(t)
        :: else ->
            store(t, BUSY(t), 0);
            lock(t);
            bias_take(t);
            if
            :: work(t); unlock(t)
            :: work(t); store(t, BIAS, t + 1); unlock(t)
            ::
#ifndef BROKEN_BIAS_NO_BUSY
                store(t, BUSY(t), 1);
#endif
                store(t, BIAS, t + 1);
                unlock(t);
                work(t)
            fi
        fi;
        store(t, BUSY(t), 0);
        bias = NOBODY
    :: break
    od
}

#ifdef CLOSE
proctype closer(byte t)
{
    byte bias;

    lock(t);
    bias_take(t);
    atomic { store(t, GENERATION, 1); closed = true }
    unlock(t)
}
#endif

proctype hardware()
{
end:
    do
    :: d_step { len(sb[0]) > 0 -> commit(0) }
    :: d_step { len(sb[1]) > 0 -> commit(1) }
    :: d_step { len(sb[2]) > 0 -> commit(2) }
    od
}

init
{
    atomic {
        mem[BIAS] = 1;
        run user(0);
        run user(1);
#ifdef CLOSE
        run closer(2);
#else
        run user(2);
#endif
        run hardware()
    }
}
