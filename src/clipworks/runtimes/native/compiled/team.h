/* Threads that run a tower's steps together. A step is cut into tasks; whoever is free takes the next one, and all meet
 * at a barrier before the next step. */
#ifndef CLIPWORKS_TEAM_H
#define CLIPWORKS_TEAM_H

#include <pthread.h>
#include <stdatomic.h>

typedef struct {
    _Atomic long next; /* task of the step */
    atomic_int arrived;
    atomic_uint phase;
    int threads;
} Team;

static inline long next_task(Team *team)
{
    return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
}

/* Between two looks at what another thread does: `looks` of them have been in vain. */
void relax(int looks);

/* All threads meet; what was written before is seen by all behind. */
void barrier(Team *team);

/* Threads that wait for a tower's calls. */
typedef struct {
    pthread_t *threads; /* room for one less than the team has: the caller is one, too */
    int started, complete;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    long generation;
    int stop;
    void (*work)(void *tower, int me);
    void *tower;
} Pool;

void set_up_pool(Pool *pool);

/* Start those that are missing; 0 where the system gives too few. */
int start_pool(Pool *pool, int threads);

/* Let all begin with `work`. */
void wake_pool(Pool *pool);

/* End and join all. */
void stop_pool(Pool *pool);

#endif
