/* Teams, their barrier, and the threads that wait for work. */
#include "kernels.h"

#if COMPILED

#include <sched.h>
#include <stdlib.h>

#include "team.h"

#define SPINS 4000 /* looks at another thread's progress before the core is offered to others */

void relax(int looks)
{
    if (looks >= SPINS)
        sched_yield();
#ifdef __x86_64__
    else
        __builtin_ia32_pause();
#endif
}

void barrier(Team *team)
{
    if (team->threads == 1) {
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        return;
    }
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->threads) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; looks++)
        relax(looks);
}

typedef struct {
    Pool *pool;
    int me;
} Place;

static void *wait_for_work(void *argument)
{
    Pool *pool = ((Place *)argument)->pool;
    int me = ((Place *)argument)->me;
    free(argument);
    for (long seen = 0;;) {
        pthread_mutex_lock(&pool->lock);
        while (pool->generation == seen && !pool->stop)
            pthread_cond_wait(&pool->wake, &pool->lock);
        seen = pool->generation;
        int stop = pool->stop;
        pthread_mutex_unlock(&pool->lock);
        if (stop)
            return NULL;
        pool->work(pool->tower, me); /* ends with a barrier */
    }
}

void set_up_pool(Pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->generation = 0;
    pool->started = pool->complete = pool->stop = 0;
}

int start_pool(Pool *pool, int threads)
{
    while (pool->started < threads - 1) {
        Place *place = malloc(sizeof *place);
        if (place == NULL)
            return 0;
        *place = (Place){pool, pool->started + 1};
        if (pthread_create(&pool->threads[pool->started], NULL, wait_for_work, place)) {
            free(place);
            return 0;
        }
        pool->started++;
    }
    pool->complete = 1;
    return 1;
}

void wake_pool(Pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void stop_pool(Pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i], NULL);
    pool->started = pool->complete = pool->stop = 0;
    pool->generation = 0; /* as a new thread has seen none */
}

#endif
