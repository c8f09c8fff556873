/*
 * A machine with store buffers (x86-TSO), and the kernel's futex. Included by the models.
 *
 * Memory is mem[]. A plain store goes to the end of the thread's own store buffer sb[t] and reaches
 * memory at any later time, in order: that is what the process `hardware` does. A plain load reads
 * memory (or, load_own(), the thread's own latest store that is still in its buffer). Loads are not
 * reordered. A locked instruction, a fence, or a system call that takes a lock empties the buffer
 * of the thread that executes it. A killed thread issues nothing more; what it had issued still
 * drains.
 *
 * The includer defines WORDS, THREADS, DEPTH (entries of a store buffer; a full one makes the
 * thread wait for the hardware) and may define on_commit(t, a, v), an assertion at the instant at
 * which the store of v to word a by thread t becomes visible.
 *
 * pending[t] counts those stores of t that were in its buffer when another thread last called
 * clock_read(t). "A store cannot stay in a store buffer for 10 ms" is the guard pending[t] == 0 on
 * the return of a sleep that ran to its full 10 ms after that clock_read(). Stores issued later may
 * still be in the buffer then.
 */
byte mem[WORDS];
chan sb[THREADS] = [DEPTH] of { byte, byte };
byte pending[THREADS];

/*
 * Scratch, no part of a state. The search does not restore it when it steps back, so use it only
 * inside of d_step, which is undone as a whole.
 */
hidden byte at_;
hidden byte what_;
hidden byte left_;

#ifndef on_commit
#define on_commit(t, a, v) skip
#endif

inline store(t, a, v) { sb[t]!a, v }

inline commit(t)
{
    sb[t]?at_, what_;
    on_commit(t, at_, what_);
    mem[at_] = what_;
    if
    :: pending[t] > 0 -> pending[t]--
    :: else
    fi
}

inline fence(t)
{
    d_step {
        do
        :: len(sb[t]) > 0 -> commit(t)
        :: else -> break
        od
    }
}

/* A load that may hit a store of the same thread which is still in its buffer. */
inline load_own(t, a, ret)
{
    d_step {
        ret = mem[a];
        left_ = len(sb[t]);
        do
        :: left_ > 0 ->
            sb[t]?at_, what_;
            sb[t]!at_, what_;
            if
            :: at_ == a -> ret = what_
            :: else
            fi;
            left_--
        :: else -> break
        od
    }
}

inline clock_read(t) { pending[t] = len(sb[t]) }

inline clock_forget(t) { pending[t] = 0 }
