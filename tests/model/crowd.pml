/*
 * Several threads of one process receive on one capability and sleep there.
 *
 *   sender   as in sleep.pml: store the slot word of position p, load the flag, futex wake (all who
 *            sleep on that word) only if the flag equals p. May stop for ever after any send.
 *   thread   receives under the pin, which it gives back while it sleeps. To sleep: flag = the
 *            position awaited, fence, clock; when that is another position than the one armed
 *            before, it rings the private bell for those who sleep already, because they sleep on
 *            the word of a position that the flag no longer names. Then it samples the bell, looks
 *            again, sleeps at most 10 ms on bell and slot word, and for good only after the pure
 *            timeout, when a look finds nothing and the position is still the same. May stop
 *            receiving after any receive, also when that ended without a message (its time was up).
 *   hardware the sender's store buffer. Flag and fence are one step here; the pin's hand-over is a
 *            fence.
 *
 * Property: when nothing can move any more, the sender has stopped by its own choice, and no thread
 * sleeps beside a message that has not been taken.
 *
 * Broken on purpose: BROKEN_KEEP_BELL (does not ring the bell: when the sender is preempted between
 * slot word and flag, it finds the flag of the next position already, and who sleeps on this one
 * sleeps on, also after the thread that armed the next one has left), BROKEN_WAKE_ONE (one sleeper
 * a wake).
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#define READERS 2

#define WORD(pos) (pos)
#define FLAG (MESSAGES + 1) /* position + 1; 0: none */
#define WORDS (MESSAGES + 2)

#define S 0
#define THREADS 1
#define DEPTH (MESSAGES + 1)

#include "tso.pml"

/* Of the reading process, with the pin. */
bool pinned;
byte position;
byte armed; /* position + 1 */

/* The kernel's. A thread is queued on the bell and on the slot word of asleep[t] - 1. */
byte bell;
byte asleep[READERS];
byte late[READERS]; /* stores that were in the sender's buffer at thread t's clock reading */

byte sent; /* ghosts */
bool stopped;

inline pin_enter() { atomic { !pinned -> pinned = true } }
inline pin_leave() { pinned = false }

inline wake_bell()
{
    d_step { bell++; asleep[0] = 0; asleep[1] = 0 }
}

inline wake_word(pos)
{
    atomic {
        fence(S);
#ifdef BROKEN_WAKE_ONE
        if
        :: asleep[0] == pos + 1 -> asleep[0] = 0
        :: asleep[1] == pos + 1 -> asleep[1] = 0
        :: else
        fi
#else
        asleep[0] = (asleep[0] == pos + 1 -> 0 : asleep[0]);
        asleep[1] = (asleep[1] == pos + 1 -> 0 : asleep[1])
#endif
    }
}

inline queue(t)
{
    atomic {
        if
        :: bell == rung && mem[WORD(ticket)] == 0 -> asleep[t] = ticket + 1
        :: else
        fi
    }
}

proctype sender()
{
    byte pos, flag;

    do
    :: pos < MESSAGES ->
        atomic { store(S, WORD(pos), 1); sent++ }
        flag = mem[FLAG];
        if
        :: flag == pos + 1 -> wake_word(pos)
        :: else
        fi;
        atomic { flag = 0; pos++ }
    :: break
    od;
    stopped = true
}

proctype thread(byte t)
{
    byte ticket, rung;
    bool timed_out;

    pin_enter();
    do
    :: mem[WORD(position)] == 1 -> /* receives */
        position++;
        pin_leave();
        if
        :: pin_enter()
        :: goto done
        fi
    :: mem[WORD(position)] == 0 ->
        atomic { ticket = position; mem[FLAG] = ticket + 1; late[t] = len(sb[S]) }
        if
        :: armed != ticket + 1 ->
            armed = ticket + 1;
#ifndef BROKEN_KEEP_BELL
            wake_bell()
#endif
        :: else
        fi;
        rung = bell;
        if
        :: mem[WORD(ticket)] == 0 ->
            pin_leave();
            queue(t);
            if
            :: asleep[t] == 0
            :: atomic { asleep[t] != 0 && late[t] == 0 -> asleep[t] = 0; timed_out = true }
            fi;
            pin_enter();
            if
            :: timed_out && position == ticket && mem[WORD(ticket)] == 0 ->
                pin_leave();
                if
                :: queue(t); asleep[t] == 0
                :: goto done /* its time was up */
                fi;
                pin_enter()
            :: else
            fi
        :: else
        fi;
        atomic { ticket = 0; rung = 0; timed_out = false; late[t] = 0 }
    od;
done:
    atomic { ticket = 0; rung = 0; timed_out = false; late[t] = 0 }
}

proctype hardware()
{
    do
    :: d_step {
        len(sb[S]) > 0 ->
        commit(S);
        late[0] = (late[0] > 0 -> late[0] - 1 : 0);
        late[1] = (late[1] > 0 -> late[1] - 1 : 0)
       }
    od
}

/* The search runs with pan -E: what is allowed to be stuck is said here, for the whole system. */
proctype watch()
{
    timeout -> assert(stopped && (position == sent || (asleep[0] == 0 && asleep[1] == 0)))
}

init
{
    atomic { run sender(); run thread(0); run thread(1); run hardware(); run watch() }
}
