/* The memory of a call, and how its rows are shared out. */
#include "kernels.h"

#if COMPILED

#include <stdlib.h>

#include "tower.h"

#define LEAST 40 /* rows that each thread has at least where threads work alone */
#define GAP 32   /* words between rows: powers of two would share one set of the cache */

size_t multiply_sizes(size_t one, size_t other)
{
    size_t product;
    return __builtin_mul_overflow(one, other, &product) || product > MOST ? MOST : product;
}

size_t attention_scratch(long head_width, long length)
{
    const size_t side = (size_t)head_width, wide = (size_t)round_up(head_width, FILL);
    const size_t padded = (size_t)round_up(length, FILL);
    return multiply_sizes(4, multiply_sizes(wide, padded) + multiply_sizes(padded + 1, wide) + multiply_sizes(QUERIES, side + 2 * padded + wide));
}

size_t pooling_scratch(long width, long heads, long length)
{
    const size_t full = (size_t)round_up(width, FILL), lanes = (size_t)round_up(heads, FILL);
    const size_t padded = (size_t)round_up(length, FILL);
    return multiply_sizes(4, multiply_sizes(full, lanes) + multiply_sizes(2 * padded, lanes) + multiply_sizes((size_t)length, full));
}

void free_memory(Buffers *buffers)
{
    free(buffers->memory);
    buffers->memory = NULL;
    buffers->size = 0;
}

/* How many parts of how many images threads take through the layers alone; the rest is for all together. */
static void share_images(Buffers *buffers, long images, long length, long own, long threads)
{
    long most = own / length > 1 ? own / length : 1, each = images / threads < most ? images / threads : most;
    buffers->images = each;
    buffers->parts = each ? images / each / threads * threads : 0;
}

/* The row that a part of texts begins with: all have equally many or, if `whole`, the whole groups that come nearest. */
static long begin_part(const Call *call, long parts, long part, int whole)
{
    long row = call->rows * part / parts, down = row, up = row;
    if (!whole || part == 0 || part == parts)
        return row;
    while (down > 0 && call->back[down - 1] / call->length == call->back[down] / call->length)
        down--;
    while (up < call->rows && call->back[up - 1] / call->length == call->back[up] / call->length)
        up++;
    return row - down < up - row ? down : up;
}

/* The parts of texts that threads take alone, and the groups that their rows are in. */
static void share_rows(Buffers *buffers, const Call *call, int whole)
{
    for (long i = 0, begin = 0, end; i < buffers->parts; i++, begin = end) {
        end = begin_part(call, buffers->parts, i + 1, whole);
        long group = call->back[begin] / call->length;
        atomic_store(&buffers->passed[i], 0);
        buffers->shares[i] = (Part){begin, end - begin, group, call->back[end - 1] / call->length + 1 - group};
    }
}

/* Which row each place of the groups is the one to compute, and which tokens in their positions are equal. `table` has
 * room for `room` numbers, a power of two; `kinds` for each row's. */
static void pair_rows(Buffers *buffers, const Call *call, const Facts *facts, int32_t *table, size_t room, int32_t *kinds)
{
    long slots = call->group_count * call->length;
    for (long i = 0; i < slots; i++)
        buffers->owned[i] = -1;
    for (size_t i = 0; i < room; i++)
        table[i] = -1;
    buffers->distinct = 0;
    for (long i = 0; i < call->rows; i++) {
        buffers->owned[call->back[i]] = (int32_t)i;
        size_t key = (size_t)call->ids[i] * (size_t)facts->context + (size_t)call->positions[i];
        size_t at = key * 0x9E3779B1u & (room - 1);
        for (; table[at] >= 0; at = (at + 1) & (room - 1)) {
            long other = buffers->firsts[table[at]];
            if (call->ids[other] == call->ids[i] && call->positions[other] == call->positions[i])
                break;
        }
        if (table[at] < 0) {
            buffers->firsts[buffers->distinct] = (int32_t)i;
            table[at] = (int32_t)buffers->distinct++;
        }
        kinds[i] = table[at];
    }
    for (long i = 0; i < slots; i++)
        buffers->twins[i] = kinds[call->groups[i]];
}

/* What is reserved, one behind the other. */
enum { ROWS, EMBEDDED, POOLED, QUERY, FOLDED, VALUES, HIDDEN, BYTES, EVEN, ODD, SHARES, PASSED, OWNED, TWINS, FIRSTS, KINDS,
       TABLE, SCRATCH, PLACES };

/* Rows that a workspace has room for: one that a thread has alone, and that of all, which is all those together. */
typedef struct {
    long own, shared;
    int whole; /* of texts: whether parts are whole groups */
} Room;

static Room plan_parts(Tower *tower, const Call *call, long rows)
{
    Buffers *buffers = &tower->buffers;
    const long threads = tower->team.threads, own = tower->set->kernels[tower->inner]->part_rows;
    Room room = {.shared = call->count};
    if (tower->length) {
        share_images(buffers, call->count, tower->length, own, threads);
        long rest = (call->count - buffers->parts * buffers->images) * tower->length;
        room.own = buffers->images * tower->length;
        room.shared = room.shared < rest ? rest : room.shared;
    } else {
        buffers->parts = rows < threads * LEAST ? 0 : (rows + threads * own - 1) / (threads * own) * threads;
        /* A group in two parts is read twice, but a few parts should be of equal length. */
        room.whole = buffers->parts >= 4 * threads && call->length <= own / 2;
        room.own = buffers->parts ? (rows + buffers->parts - 1) / buffers->parts + room.whole * call->length : 0;
        room.shared = room.shared < rows ? rows : room.shared;
    }
    room.shared = room.shared < room.own * threads ? room.own * threads : room.shared;
    return room;
}

/* Bytes of scratch for each thread. */
static size_t count_scratch(const Facts *facts, long length)
{
    const size_t sums = BLOCK * NR * 4, attention = attention_scratch(facts->width / facts->heads, length);
    const size_t pooling = pooling_scratch(facts->width, facts->heads, length);
    size_t most = sums < attention ? attention : sums;
    most = most < pooling ? pooling : most;
    return (size_t)round_up((long)most + ALIGNMENT, ALIGNMENT);
}

static int allocate(Buffers *buffers, const size_t sizes[PLACES], char *places[PLACES])
{
    size_t total = ALIGNMENT * 4;
    for (int i = 0; i < PLACES; i++)
        total += multiply_sizes((sizes[i] + 2 * ALIGNMENT - 1) / ALIGNMENT, ALIGNMENT);
    if (total > MOST)
        return 0;
    if (total > buffers->size) {
        free_memory(buffers);
        if (posix_memalign((void **)&buffers->memory, ALIGNMENT, total)) {
            buffers->memory = NULL;
            return 0;
        }
        buffers->size = total;
    }
    char *at = buffers->memory;
    for (int i = 0; i < PLACES; i++) {
        places[i] = at;
        at += (sizes[i] + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return 1;
}

int reserve(Tower *tower, const Call *call, long length, long rows)
{
    const Facts *facts = &tower->facts;
    Buffers *buffers = &tower->buffers;
    const long threads = tower->team.threads, patch = facts->patch_size * facts->patch_size * 3, full = round_up(facts->width, FILL);
    const size_t value = tower->format == BF16 ? 2 : 4, texts = !tower->length;
    size_t room = 2;
    buffers->step = full + GAP;
    buffers->hidden_step = round_up(patch < facts->mlp_dim ? facts->mlp_dim : patch, FILL) + GAP;
    buffers->qkv_step = round_up(3 * facts->width, FILL) + GAP;
    buffers->count = rows;
    const Room planned = plan_parts(tower, call, rows);
    while (texts && room < 2 * (size_t)rows)
        room *= 2;
    const size_t step = (size_t)buffers->step, hidden = (size_t)buffers->hidden_step * value;
    const size_t qkv = (size_t)buffers->qkv_step * value, count = (size_t)rows, ends = (size_t)call->count;
    const size_t slots = (size_t)(call->group_count * call->length), shared = (size_t)planned.shared;
    const size_t scratch = count_scratch(facts, length);
    const size_t sizes[PLACES] = {
        [ROWS] = multiply_sizes(count, step * 4),
        [EMBEDDED] = facts->image_size ? multiply_sizes(count, step * 4) : 0,
        [POOLED] = multiply_sizes(ends, step * 4),
        [QUERY] = multiply_sizes(ends, step * 4),
        [FOLDED] = multiply_sizes(ends, (size_t)(facts->heads * full) * 4),
        [VALUES] = multiply_sizes(shared, step * value),
        [HIDDEN] = multiply_sizes(shared, hidden),
        [BYTES] = facts->int8 ? multiply_sizes(shared, step) : 0,
        [EVEN] = multiply_sizes(texts ? count : shared, qkv),
        [ODD] = multiply_sizes(texts * count, qkv),
        [SHARES] = texts * (size_t)buffers->parts * sizeof(Part),
        [PASSED] = texts * (size_t)buffers->parts * sizeof *buffers->passed,
        [OWNED] = slots * 4,
        [TWINS] = slots * 4,
        [FIRSTS] = texts * count * 4,
        [KINDS] = texts * count * 4,
        [TABLE] = texts * room * 4,
        [SCRATCH] = multiply_sizes(scratch, (size_t)threads),
    };
    char *places[PLACES];
    if (!allocate(buffers, sizes, places))
        return 0;
    buffers->rows = (float *)places[ROWS];
    buffers->embedded = (float *)places[EMBEDDED];
    buffers->pooled = (float *)places[POOLED];
    buffers->query = (float *)places[QUERY];
    buffers->folded = (float *)places[FOLDED];
    buffers->shares = (Part *)places[SHARES];
    buffers->passed = (_Atomic long *)places[PASSED];
    buffers->owned = (int32_t *)places[OWNED];
    buffers->twins = (int32_t *)places[TWINS];
    buffers->firsts = (int32_t *)places[FIRSTS];
    if (texts) {
        pair_rows(buffers, call, facts, (int32_t *)places[TABLE], room, (int32_t *)places[KINDS]);
        share_rows(buffers, call, planned.whole);
    }
    for (long i = 0; i < 2 * threads; i++) {
        const int alone = i % 2;
        const size_t first = alone ? (size_t)(i / 2 * planned.own) : 0;
        char *even = places[EVEN] + (texts ? 0 : first * qkv);
        buffers->workspaces[i] = (Workspace){
            .team = alone ? &buffers->alone[i / 2] : &tower->team,
            .scratch = places[SCRATCH] + (size_t)(i / 2) * scratch,
            .values = places[VALUES] + first * step * value,
            .hidden = places[HIDDEN] + first * hidden,
            .bytes = (uint8_t *)places[BYTES] + first * step,
            .qkv = {even, texts ? places[ODD] : even},
        };
    }
    return 1;
}

#endif
