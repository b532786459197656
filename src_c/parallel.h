/* Threads: a team, shares, units and tasks of its work, and a barrier. The only door to OpenMP.
 *
 * A driver writes its work as body(context, member, team). Work is divided by fc_share, taken in
 * units (fc_take, fc_next_piece) or, where these need each other's results, run as tasks
 * (fc_run_tasks, fc_run_stages); no result may depend on `team` or on who computed it.
 */
#ifndef FC_PARALLEL_H
#define FC_PARALLEL_H

#include <stdint.h>

/* Run body(context, member, team) for member = 0 .. team - 1, all at once, and return the team's
 * size: at most `threads` and at most what OpenMP allows now; 1, on the calling thread and
 * without touching OpenMP, in a forked child and in a build without OpenMP. */
int fc_parallel(int threads, void (*body)(void *context, int member, int team), void *context);

/* How many members fc_parallel(threads, ...) would run with at most: for sizing scratch. */
int fc_team_size(int threads);

/* `threads` cut down so that each member has at least 50 us of work at 20 GF/s: below that,
 * starting it costs more than it brings (an OpenMP fork and join: 3-10 us). */
int fc_useful_threads(int threads, double flops);

/* The OpenMP runtime in use, its file where the system can tell; NULL in a build without. */
const char *fc_openmp_runtime(void);

/* Member's share [*begin, *end) of 0 .. count. Shares differ by at most one. */
static inline void fc_share(int64_t count, int member, int team, int64_t *begin, int64_t *end)
{
    *begin = count / team * member + (count % team < member ? count % team : member);
    *end = *begin + count / team + (member < count % team);
}

/* Units of a common heap, which is to be zero before the team starts: `count` of them from the
 * number returned on. Whoever is free takes the next ones, so that a member whose core is busy
 * with something else does less. Each unit's result must not depend on who computes it. */
typedef struct { _Alignas(64) int64_t next; } fc_units;
static inline int64_t fc_take(fc_units *units, int64_t count)
{
    return __atomic_fetch_add(&units->next, count, __ATOMIC_RELAXED);
}

/* Units of 0 .. count for one member: first three quarters of its share, which it finds in its
 * cache if it had them in the call before, then pieces of what the members' shares have left,
 * from a common heap. Groups of neighbouring units stay together; a piece of less than a group
 * has at least `least` units. */
typedef struct {
    fc_units *heap;
    int64_t count, group, least;
    int member, team, begun;
} fc_pieces;

/* The next piece [*begin, *end); 0 when there is none. */
int fc_next_piece(fc_pieces *pieces, int64_t *begin, int64_t *end);

/* A barrier that spins: for loops whose steps take microseconds. Zero it before the team starts. */
typedef struct { _Alignas(64) int arrived; _Alignas(64) int epoch; } fc_barrier;
void fc_barrier_wait(fc_barrier *barrier, int team);

/* Tasks that need each other's results, each run by whichever member is free: who shares its core
 * with another process does fewer of them, and holds up those only who need the task it is at.
 *
 * pick names a task that can be run now and marks it as taken, or says FC_LATER or FC_NEVER;
 * finish marks it as done. Of these two one runs at a time. Zero `tasks` before the team starts;
 * every member calls fc_run_tasks, with a context of its own, until pick says FC_NEVER. */
enum { FC_LATER = -1, FC_NEVER = -2 };
typedef struct {
    int64_t (*pick)(void *context);
    void (*run)(void *context, int64_t task);
    void (*finish)(void *context, int64_t task);
} fc_task_rules;
typedef struct { _Alignas(64) int held; _Alignas(64) int finished; int waiting; } fc_tasks;
void fc_run_tasks(fc_tasks *tasks, const fc_task_rules *rules, void *context);

/* Such tasks in stages, each of which needs all that came before it: a stage has `chains` chains of
 * `links` tasks that follow one another, and chains do not need each other. Of the chains that
 * nobody is at, the one that has got the least far is taken. Either may be 0. */
typedef struct {
    int64_t chains, links;
    void (*run)(void *context, int member, int64_t chain, int64_t link);
} fc_stage;

/* Zero it but for the first two and `done`, which has room for the chains of any stage whose links
 * are more than one; then every member calls fc_run_stages. */
typedef struct {
    const fc_stage *stages;
    int count;
    int64_t *done;            /* links of each chain; -1 - that, while somebody is at the next */
    int at;                   /* the stage, */
    int64_t begun, finished;  /* tasks of it */
    fc_tasks tasks;
} fc_work;
void fc_run_stages(fc_work *work, void *context, int member);

#endif
