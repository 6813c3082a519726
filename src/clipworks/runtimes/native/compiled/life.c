/* A tower's life: opened, called by one at a time, closed, and found again in a fork. */
#include "kernels.h"

#if COMPILED

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "life.h"

/* A fault that tools/sanitize.py plants, to see that the sanitizers find it; builds for use have none. */
#ifdef PLANTED
static long raced;

static void plant(const Tower *tower)
{
    const char *fault = getenv("CLIPWORKS_PLANTED");
    volatile int most = INT_MAX;
    if (fault == NULL)
        return;
    if (!strcmp(fault, "overflow"))
        tower->buffers.memory[tower->buffers.size] = 0;
    else if (!strcmp(fault, "undefined"))
        most = most + tower->team.threads;
    else
        raced++; /* in all threads at once */
}
#else
#define plant(tower)
#endif

/* All towers of this process. A fork happens while no other thread changes the list; in the child no thread is left but
 * the one that forked, and what the others held, or were in the middle of, is set up anew. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static Tower *towers;

static void add_to_list(Tower *tower)
{
    pthread_mutex_lock(&list_lock);
    tower->next = towers;
    if (towers != NULL)
        towers->previous = tower;
    towers = tower;
    pthread_mutex_unlock(&list_lock);
}

static void take_from_list(Tower *tower)
{
    pthread_mutex_lock(&list_lock);
    if (tower->previous != NULL)
        tower->previous->next = tower->next;
    else if (towers == tower)
        towers = tower->next;
    if (tower->next != NULL)
        tower->next->previous = tower->previous;
    pthread_mutex_unlock(&list_lock);
}

/* Bring a tower to where nobody works. */
static void set_up(Tower *tower)
{
    pthread_mutex_init(&tower->turn, NULL);
    set_up_pool(&tower->pool);
    atomic_store(&tower->team.next, 0);
    atomic_store(&tower->team.arrived, 0);
    for (int i = 0; i < tower->team.threads; i++)
        atomic_store(&tower->buffers.alone[i].next, 0);
    atomic_store(&tower->broken, 0);
}

static void before_fork(void)
{
    pthread_mutex_lock(&list_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&list_lock);
}

static void after_fork_in_child(void)
{
    pthread_mutex_unlock(&list_lock);
    for (Tower *tower = towers; tower != NULL; tower = tower->next) {
        set_up(tower);
        if (atomic_exchange(&tower->busy, 0)) { /* perhaps it was just being freed: a leak is the lesser evil */
            tower->buffers.memory = NULL;
            tower->buffers.size = 0;
        }
    }
}

int watch_forks(void)
{
    static int watching; /* there is no way to end that */
    if (!watching && pthread_atfork(before_fork, after_fork, after_fork_in_child))
        return 0;
    watching = 1;
    return 1;
}

static void work(void *argument, int me)
{
    Tower *tower = argument;
    plant(tower);
    run_layers(tower, tower->call, me);
}

Tower *create_tower(const Facts *facts, const InstructionSet *set, int threads)
{
    Tower *tower = calloc(1, sizeof *tower);
    if (tower == NULL)
        return NULL;
    const long patches = facts->grid * facts->grid;
    tower->facts = *facts;
    tower->set = set;
    tower->format = facts->bf16 ? BF16 : F32;
    tower->inner = facts->int8 ? INT8 : tower->format;
    tower->length = facts->image_size ? patches + facts->cls_token : facts->causal ? 0 : facts->context;
    tower->layers = calloc((size_t)facts->layers, sizeof *tower->layers);
    tower->pool.threads = calloc((size_t)threads, sizeof *tower->pool.threads);
    tower->pool.work = work;
    tower->pool.tower = tower;
    tower->buffers.workspaces = calloc(2 * (size_t)threads, sizeof *tower->buffers.workspaces);
    tower->buffers.alone = calloc((size_t)threads, sizeof *tower->buffers.alone);
    const int enough = tower->layers != NULL && tower->pool.threads != NULL && tower->buffers.workspaces != NULL &&
                       tower->buffers.alone != NULL;
    tower->team.threads = enough ? threads : 0;
    for (int i = 0; i < tower->team.threads; i++)
        tower->buffers.alone[i].threads = 1;
    set_up(tower);
    add_to_list(tower);
    if (enough)
        return tower;
    free_tower(tower);
    return NULL;
}

/* End the threads and free what they worked in. */
static void shut(Tower *tower)
{
    stop_pool(&tower->pool);
    free_memory(&tower->buffers);
}

void free_tower(Tower *tower)
{
    take_from_list(tower);
    shut(tower);
    pthread_mutex_destroy(&tower->turn);
    pthread_mutex_destroy(&tower->pool.lock);
    pthread_cond_destroy(&tower->pool.wake);
    free(tower->layers);
    free(tower->pool.threads);
    free(tower->buffers.workspaces);
    free(tower->buffers.alone);
    free(tower);
}

int start_tower(Tower *tower)
{
    return start_pool(&tower->pool, tower->team.threads);
}

static void take_turn(Tower *tower)
{
    pthread_mutex_lock(&tower->turn);
    atomic_store(&tower->busy, 1);
}

static void end_turn(Tower *tower)
{
    atomic_store(&tower->busy, 0);
    pthread_mutex_unlock(&tower->turn);
}

int close_when_idle(Tower *tower)
{
    take_turn(tower);
    const int first = !atomic_exchange(&tower->closed, 1);
    if (first)
        shut(tower);
    end_turn(tower);
    return first;
}

static void run(Tower *tower, const Call *call)
{
    tower->call = call;
    if (tower->team.threads > 1)
        wake_pool(&tower->pool);
    work(tower, 0);
    if (atomic_exchange(&tower->broken, 0)) /* which rows saw it is not known */
        for (long i = 0; i < call->count * tower->facts.dim; i++)
            call->out[i] = NAN;
}

Outcome run_call(Tower *tower, const Call *call, long length, long rows, int *started)
{
    Outcome outcome = DONE;
    take_turn(tower);
    if (atomic_load(&tower->closed)) {
        outcome = CLOSED;
    } else if (!tower->pool.complete && !start_tower(tower)) { /* in a fork */
        outcome = NO_THREADS;
        *started = tower->pool.started;
        stop_pool(&tower->pool); /* so that the next call tries again */
    } else if (!reserve(tower, call, length, rows)) {
        outcome = NO_MEMORY;
    } else {
        run(tower, call);
    }
    end_turn(tower);
    return outcome;
}

#endif
