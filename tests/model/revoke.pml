/*
 * Revoking a right while those who hold what was derived from it go on deriving, sending and
 * closing: afterwards nothing of it is left.
 *
 *   holder   has the socket of one node of the derivation tree. It derives children over it (the
 *            child's socket is in its holder's hands at once, before the owner has heard of it),
 *            sends at most one message through its ring, closes; the holder of the root asks to
 *            revoke what was derived from it, and then only waits for the answer.
 *   reactor  of the owner, reads the sockets of the nodes that it knows, each in order, among each
 *            other in any order. A derivation adds a child; a hang-up hands the children to the
 *            parent and forgets the node; a request to revoke marks all that is below, posts, and
 *            only then answers. (What is still queued on a revoked socket it adds to the tree and
 *            revokes as well, which comes to the same as not reading it.)
 *   taker    a thread of the owner that receives: looks whether something was posted, and then
 *            takes a message. What was posted it adopts: revoked links are retired as they are.
 *
 * Properties: once the request is answered, nobody but the root holds a right, and never will; and
 * a receive that begins after the answer takes no message of a revoked link.
 *
 * Broken on purpose: BROKEN_CHILDREN_ONLY (revokes the children, not what lies below them),
 * BROKEN_ORPHANS (a hang-up leaves the children without a parent), BROKEN_LATE_DERIVE (what is still
 * queued on a revoked socket is carried out), BROKEN_NO_LOOK (receiving does not look for what was
 * posted), BROKEN_ANSWER_FIRST (answers before it posts).
 */
#define NODES 4
#define NOBODY 255

mtype = { DERIVE, REVOKE, HANGUP };

chan queue[NODES] = [2] of { mtype, byte };

/* the owner's private memory */
byte parent[NODES];
bool known[NODES];   /* the node is in the tree */
bool revoked[NODES]; /* its link is posted as revoked */
bool retired[NODES]; /* ... and was adopted */
bool attention;

/* shared memory and sockets, as the holders see them */
byte ring[NODES];
bool shut[NODES];
bool answered;

byte born = 1; /* nodes that some holder has a socket of */

inline derive(node, child)
{
    atomic {
        parent[child] = node;
        known[child] = true
    }
}

inline hang_up(node)
{
    atomic {
        known[node] = false;
        k = 1;
        do
        :: k < NODES ->
            if
            :: known[k] && parent[k] == node ->
#ifdef BROKEN_ORPHANS
                parent[k] = NOBODY
#else
                parent[k] = parent[node]
#endif
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

/* Nodes are numbered in the order in which they were derived, and a child is known after its
 * parent: one pass from the top marks all that is below. */
inline mark_below(node)
{
    below = 1 << node;
    k = 1;
    do
    :: k < NODES ->
        if
#ifdef BROKEN_CHILDREN_ONLY
        :: known[k] && parent[k] == node ->
#else
        :: known[k] && parent[k] != NOBODY && (below & (1 << parent[k])) ->
#endif
            below = below | (1 << k);
            known[k] = false;
            revoked[k] = true;
            shut[k] = true
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0;
    below = 0
}

proctype holder(byte node)
{
    byte child;

    do
    :: atomic { node != 0 && shut[node] -> break }
    :: atomic {
           !shut[node] && born < NODES && !answered ->
           child = born;
           born++;
           queue[node]!DERIVE, child;
           run holder(child);
           child = 0
       }
    :: atomic { node != 0 && ring[node] == 0 && !shut[node] -> ring[node] = 1 }
    :: atomic { node != 0 && !shut[node] -> queue[node]!HANGUP, 0; break }
    :: atomic { node == 0 && !answered -> queue[0]!REVOKE, 0; answered; break }
    od
}

proctype reactor()
{
    byte node, child, k, below;

    do
    :: atomic {
           select(node : 0 .. (NODES - 1));
#ifdef BROKEN_LATE_DERIVE
           (known[node] || revoked[node]) && nempty(queue[node])
#else
           known[node] && nempty(queue[node])
#endif
       };
       if
       :: queue[node]?DERIVE, child -> derive(node, child)
       :: queue[node]?HANGUP, _ -> hang_up(node)
       :: queue[node]?REVOKE, _ ->
#ifdef BROKEN_ANSWER_FIRST
           answered = true;
#endif
           atomic { mark_below(node) }
           attention = true;
           answered = true
       fi;
       node = 0;
       child = 0
    od
}

proctype taker()
{
    byte node, k;
    bool late;

    do
    :: late = answered;
#ifndef BROKEN_NO_LOOK
       if
       :: attention ->
           atomic {
               attention = false;
               k = 0;
               do
               :: k < NODES -> retired[k] = revoked[k]; k++
               :: else -> break
               od;
               k = 0
           }
       :: else
       fi;
#endif
       atomic {
           select(node : 1 .. (NODES - 1));
           if
           :: (known[node] || revoked[node]) && !retired[node] && ring[node] == 1 ->
               ring[node] = 2;
               assert(!(late && revoked[node]))
           :: else
           fi;
           node = 0
       }
    od
}

proctype observer()
{
    do
    :: assert(!answered || !(known[1] || known[2] || known[3]))
    od
}

init
{
    atomic {
        known[0] = true;
        parent[0] = NOBODY;
        run holder(0);
        run reactor();
        run taker();
        run observer()
    }
}
