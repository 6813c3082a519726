/* What Python's side does with towers. */
#ifndef CLIPWORKS_LIFE_H
#define CLIPWORKS_LIFE_H

#include "tower.h"

/* Look after forks; 0 where the system has no memory for it. */
int watch_forks(void);

/* A tower without weights and threads, or NULL where there is not enough memory. */
Tower *create_tower(const Facts *facts, const InstructionSet *set, int threads);

/* Start its threads; 0 where the system gives too few. */
int start_tower(Tower *tower);

/* After the calls before; whether it was open. */
int close_when_idle(Tower *tower);

void free_tower(Tower *tower);

typedef enum { DONE, CLOSED, NO_THREADS, NO_MEMORY } Outcome;

/* Run a call when it is its turn. `length`: of its longest sequence; `rows`: in all; `started`: set to the threads that
 * there are where there are too few. */
Outcome run_call(Tower *tower, const Call *call, long length, long rows, int *started);

#endif
