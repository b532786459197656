#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE   /* dladdr, sched_getcpu */
#endif
#include "parallel.h"

#include <stdatomic.h>
#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifndef _WIN32
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

/* A forked child has none of its parent's OpenMP threads, and libgomp waits for them for ever:
 * a child of a process that had a team stays on one thread. */
#ifdef _OPENMP
static atomic_int had_team, forked;
#ifndef _WIN32
static void in_child(void) { if (had_team) forked = 1; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(0, 0, in_child); }
#endif
#endif

const char *fc_openmp_runtime(void)
{
#if defined(_OPENMP) && !defined(_WIN32)
    union { int (*function)(void); void *address; } runtime = {omp_get_max_threads};
    Dl_info info;
    if (dladdr(runtime.address, &info) && info.dli_fname)
        return info.dli_fname;
#endif
#ifdef _OPENMP
    return "unknown runtime";
#else
    return NULL;
#endif
}

int fc_team_size(int threads)
{
#ifdef _OPENMP
    if (threads <= 1 || forked || omp_in_parallel())
        return 1;
    int most = omp_get_max_threads();
    return threads < most ? threads : most;
#else
    (void)threads;
    return 1;
#endif
}

#ifdef _OPENMP
/* The core that this thread is on; -1 where the system does not tell. */
static int current_core(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* A member that was woken on its caller's core, as happens where another process spins on its own,
 * goes elsewhere: Linux would leave both there, each half the time, as three threads on two cores
 * are in balance either way. Where it may run is set back at once. (T 100, B 32, m 256 on two
 * threads beside a spinning process: 16.0 -> 12.0 ms.) */
static void leave_core(int core)
{
#ifdef __linux__
    cpu_set_t allowed, others;
    if (core < 0 || core >= CPU_SETSIZE || sched_getcpu() != core
        || sched_getaffinity(0, sizeof allowed, &allowed))
        return;
    others = allowed;
    CPU_CLR(core, &others);
    if (!sched_setaffinity(0, sizeof others, &others))
        sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)core;
#endif
}
#endif

int fc_parallel(int threads, void (*body)(void *context, int member, int team), void *context)
{
    int team = fc_team_size(threads);
    if (team == 1) {
        body(context, 0, 1);
        return 1;
    }
#ifdef _OPENMP
    had_team = 1;
    int got = 1;
    const int core = current_core();
    #pragma omp parallel num_threads(team)
    {
        const int member = omp_get_thread_num(), members = omp_get_num_threads();
        if (member == 0)
            got = members;
        else
            leave_core(core);
        body(context, member, members);   /* without waiting until all have come */
    }
    team = got;
#endif
    return team;
}

int fc_useful_threads(int threads, double flops)
{
    double most = flops / (20e9 * 50e-6);
    return most < 2 ? 1 : most < threads ? (int)most : threads;
}

/* Wait a little. Most waits are for a task that another member is at and end within some 0.7 ms;
 * who gives up the core sooner may get it back after the other process's time slice only (the case
 * above with 25 us: 12.0 ms, with 0.7: 8.7). Past that the other member may need this core, and
 * after some 10 ms this one sleeps. */
static void spin(int *spins)
{
    enum { YIELD = 30000, SLEEP = 60000 };
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
#ifndef _WIN32
    if (*spins > SLEEP)
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    else if (*spins > YIELD)
        sched_yield();
#endif
    *spins += *spins <= SLEEP;
}

/* Where the part of a member's share that is left to the heap begins; *end is the share's own. */
static int64_t left_of(const fc_pieces *pieces, int member, int64_t *begin, int64_t *end)
{
    fc_share(pieces->count, member, pieces->team, begin, end);
    const int64_t own = *end - (*end - *begin + 3) / 4, whole = own - own % pieces->group;
    return pieces->team == 1 ? *end : whole > *begin ? whole : own;
}

int fc_next_piece(fc_pieces *pieces, int64_t *begin, int64_t *end)
{
    if (!pieces->begun) {
        pieces->begun = 1;
        *end = left_of(pieces, pieces->member, begin, end);
        if (*begin < *end)
            return 1;
    }
    int64_t at = __atomic_load_n(&pieces->heap->next, __ATOMIC_RELAXED), next;
    do {
        int64_t left = -at;   /* units in the heap behind the one at `at` */
        *begin = -1;
        for (int m = 0; m < pieces->team; m++) {
            int64_t share, share_end, from = left_of(pieces, m, &share, &share_end);
            const int64_t before = left;
            left += share_end - from;
            if (*begin < 0 && left > 0) {
                *begin = from - before;
                *end = share_end;
            }
        }
        if (*begin < 0)
            return 0;
        const int64_t size = left / (2 * pieces->team) > pieces->least ? left / (2 * pieces->team)
                                                                       : pieces->least;
        if (*end - *begin > size) {
            const int64_t group = pieces->group, whole = (*begin + size) / group * group;
            *end = whole > *begin ? whole : *begin + size;
        }
        next = at + *end - *begin;
    } while (!__atomic_compare_exchange_n(&pieces->heap->next, &at, next, 0, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return 1;
}

void fc_barrier_wait(fc_barrier *barrier, int team)
{
    int epoch = __atomic_load_n(&barrier->epoch, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == team) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier->epoch, epoch + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&barrier->epoch, __ATOMIC_ACQUIRE) == epoch;)
        spin(&spins);
}

static void hold(fc_tasks *tasks)
{
    for (int spins = 0; __atomic_exchange_n(&tasks->held, 1, __ATOMIC_ACQUIRE);)
        spin(&spins);
}

static void let_go(fc_tasks *tasks) { __atomic_store_n(&tasks->held, 0, __ATOMIC_RELEASE); }

/* Until another task has been finished. */
static void wait_for_others(fc_tasks *tasks)
{
    const int finished = tasks->finished;
    tasks->waiting++;
    let_go(tasks);
    for (int spins = 0; __atomic_load_n(&tasks->finished, __ATOMIC_RELAXED) == finished;)
        spin(&spins);
    hold(tasks);
    tasks->waiting--;
}

/* Time for a member that waits to take what has just become possible: it runs for sure, while
 * this one may be about to lose its core. */
static void give_way(fc_tasks *tasks)
{
    let_go(tasks);
    for (int spins = 0; spins < 100;)
        spin(&spins);
    hold(tasks);
}

void fc_run_tasks(fc_tasks *tasks, const fc_task_rules *rules, void *context)
{
    int64_t task;
    hold(tasks);
    while ((task = rules->pick(context)) != FC_NEVER) {
        if (task == FC_LATER) {
            wait_for_others(tasks);
            continue;
        }
        let_go(tasks);
        rules->run(context, task);
        hold(tasks);
        rules->finish(context, task);
        __atomic_store_n(&tasks->finished, tasks->finished + 1, __ATOMIC_RELAXED);
        if (tasks->waiting)
            give_way(tasks);
    }
    let_go(tasks);
}

/* A member's view of work in stages. */
typedef struct { fc_work *work; void *context; int member; } fc_view;

/* To the next stage that has tasks, once those of this one are finished. */
static const fc_stage *current_stage(fc_work *work)
{
    while (work->at < work->count) {
        const fc_stage *stage = &work->stages[work->at];
        if (work->finished < stage->chains * stage->links)
            return stage;
        work->at++;
        work->begun = work->finished = 0;
    }
    return NULL;
}

static int64_t pick_chain(void *context)
{
    fc_work *work = ((fc_view *)context)->work;
    const fc_stage *stage = current_stage(work);
    if (!stage)
        return FC_NEVER;
    if (work->begun == stage->chains * stage->links)
        return FC_LATER;
    if (stage->links == 1)
        return work->begun++;
    for (int64_t i = 0; work->begun == 0 && i < stage->chains; i++)
        work->done[i] = 0;
    int64_t best = FC_LATER;
    for (int64_t i = 0; i < stage->chains; i++)
        if (work->done[i] >= 0 && work->done[i] < stage->links
            && (best < 0 || work->done[i] < work->done[best]))
            best = i;
    if (best >= 0) {
        work->done[best] = -1 - work->done[best];
        work->begun++;
    }
    return best;
}

/* The stage stays what it is while one of its tasks is not finished. */
static void run_link(void *context, int64_t chain)
{
    const fc_view *view = context;
    const fc_work *work = view->work;
    const fc_stage *stage = &work->stages[work->at];
    stage->run(view->context, view->member, chain, stage->links == 1 ? 0 : -1 - work->done[chain]);
}

static void finish_link(void *context, int64_t chain)
{
    fc_work *work = ((fc_view *)context)->work;
    work->finished++;
    if (work->stages[work->at].links > 1)
        work->done[chain] = -work->done[chain];   /* one more than it was */
}

void fc_run_stages(fc_work *work, void *context, int member)
{
    static const fc_task_rules rules = {pick_chain, run_link, finish_link};
    fc_view view = {work, context, member};
    fc_run_tasks(&work->tasks, &rules, &view);
}
