/* A tower's way: input rows, layers, pooling. It is the same in every format and instruction set.
 *
 * Each thread takes some of the rows, a part, through the layers alone; what is too little for that, and the ends of a
 * tower, all threads run together. What a function computes "as a step" it shares out to the workspace's team.
 */
#include "kernels.h"

#if COMPILED

#include <math.h>
#include <string.h>

#include "tower.h"

static const Kernels *floats(const Tower *tower)
{
    return tower->set->kernels[tower->format];
}

static const Kernels *f32(const Tower *tower)
{
    return tower->set->kernels[F32];
}

/* Where value number `at` of rows in a format lies. */
static void *value_at(const void *values, Format format, long at)
{
    static const int sizes[FORMATS] = {4, 2, 1};
    return (char *)values + at * sizes[format];
}

/* Wait until the first parts of texts are through so many layers; there may be none. */
static void await(const Buffers *buffers, long parts, long layers)
{
    for (long i = 0; i < parts; i++)
        for (int looks = 0; atomic_load_explicit(&buffers->passed[i], memory_order_acquire) < layers; looks++)
            relax(looks);
}

/* A linear map of rows of its format; a step. Its tasks are blocks of rows by panels, block after block, so that a block
 * stays in a core's cache while the panels pass by. */
static void map_rows(const Tower *tower, const Workspace *space, const void *rows, long step, long count,
                     const Linear *linear, Epilogue epilogue)
{
    const long values = per_word[linear->format], words = (linear->inputs + values - 1) / values, a_step = step / values;
    const long panels = (linear->outputs + NR - 1) / NR, depths = (words + DEPTH - 1) / DEPTH;
    const long blocks = (count + BLOCK - 1) / BLOCK;
    const Kernels *kernels = tower->set->kernels[linear->format];
    epilogue.bias = linear->bias;
    epilogue.scales = linear->scales;
    for (long task; (task = next_task(space->team)) < panels * blocks;) {
        const long block = task / panels, panel = task % panels;
        const long begin = count * block / blocks, height = count * (block + 1) / blocks - begin;
        const long columns = linear->outputs - panel * NR < NR ? linear->outputs - panel * NR : NR;
        const long b_step = round_up(columns, FILL);
        const uint32_t *a = (const uint32_t *)rows + begin * a_step;
        const uint32_t *b = (const uint32_t *)linear->panels + panel * words * NR;
        Gemm gemm = {.a_step = a_step, .b_step = b_step, .sums = (float *)space->scratch, .sums_step = NR, .row = begin,
                     .column = panel * NR};
        for (long i = 0; i < depths; i++) {
            const long from = words * i / depths, until = words * (i + 1) / depths;
            gemm.a = a + from;
            gemm.b = b + from * b_step;
            gemm.words = until - from;
            gemm.add = i > 0;
            gemm.epilogue = i + 1 < depths ? NULL : &epilogue;
            /* Behind the last panel lies the next map. */
            gemm.ahead = (const char *)(b + (i + 1 < depths ? until * b_step : words * NR * space->team->threads));
            kernels->gemm(&gemm, height, columns);
        }
    }
    barrier(space->team);
}

/* Rows to values of the maps' format, normalized; a step. `index`: which of the rows; NULL for those in order. */
static void normalize_rows(const Tower *tower, const Workspace *space, const float *rows, const int32_t *index, long count)
{
    const Kernels *kernels = floats(tower);
    const long step = tower->buffers.step;
    for (long task; (task = next_task(space->team)) * FEW < count;)
        for (long i = task * FEW; i < count && i < (task + 1) * FEW; i++)
            kernels->normalize(rows + (index == NULL ? i : index[i]) * step, tower->facts.width,
                               (float)tower->facts.epsilon, NULL, value_at(space->values, tower->format, i * step));
    barrier(space->team);
}

/* As normalize_rows, to bytes; or, where there are no rows, the workspace's values as they are. */
static void quantize_rows(const Tower *tower, const Workspace *space, const float *rows, const int32_t *index, long count,
                          const float *weight, const Quantizer *quantizer)
{
    const Kernels *kernels = tower->set->kernels[INT8];
    const long step = tower->buffers.step, width = tower->facts.width;
    float *normal = (float *)space->scratch;
    for (long task; (task = next_task(space->team)) * FEW < count;)
        for (long i = task * FEW; i < count && i < (task + 1) * FEW; i++) {
            const void *values = normal;
            if (rows == NULL)
                values = value_at(space->values, tower->format, i * step);
            else
                f32(tower)->normalize(rows + (index == NULL ? i : index[i]) * step, width, (float)tower->facts.epsilon,
                                      NULL, normal);
            kernels->quantize(values, rows == NULL ? tower->format : F32, width, weight, quantizer,
                              space->bytes + i * step);
        }
    barrier(space->team);
}

/* Rows, normalized, through a map of a layer: qkv (0) or fc1 (2). */
static void map_normalized(const Tower *tower, const Workspace *space, const Layer *layer, int which, const float *rows,
                           const int32_t *index, long count, Epilogue epilogue)
{
    const Linear *linear = which ? &layer->fc1 : &layer->qkv;
    const int quantized = linear->format == INT8;
    if (quantized)
        quantize_rows(tower, space, rows, index, count, layer->weights[which / 2], &layer->quantizers[which]);
    else
        normalize_rows(tower, space, rows, index, count);
    map_rows(tower, space, quantized ? space->bytes : space->values, tower->buffers.step, count, linear, epilogue);
}

/* The queries, keys and values of a layer, to row `first` and on of the workspace's. `index`: which of the rows; NULL for
 * those in order. */
static void project_qkv(const Tower *tower, const Workspace *space, const float *rows, const int32_t *index, long count,
                        long first, long number)
{
    const long step = tower->buffers.qkv_step;
    map_normalized(tower, space, &tower->layers[number], 0, rows, index, count,
                   (Epilogue){.out = value_at(space->qkv[number % 2], tower->format, first * step),
                              .format = tower->format, .out_step = step});
}

/* Prefetch what the attention of one head in one sequence reads: no row tells where the next one lies. */
static void prefetch_head(const Attention *attention, Format format)
{
    const long side = attention->width / attention->heads, line = ALIGNMENT / 4 * per_word[format];
    for (long i = 0; i < attention->length; i++) {
        const long row = (attention->index == NULL ? i : attention->index[i]) * attention->step + attention->head * side;
        for (long part = 0; part < 3; part++)
            for (long j = 0; j < side; j += line)
                __builtin_prefetch(value_at(attention->qkv, format, row + part * attention->width + j), 0, 2);
    }
}

/* One head of one sequence of a part, all of it. */
static Attention find_head(const Tower *tower, const Call *call, const Workspace *space, const Part *part, long number,
                           long task)
{
    const Buffers *buffers = &tower->buffers;
    const long heads = tower->facts.heads;
    Attention attention = {.qkv = space->qkv[number % 2], .step = buffers->qkv_step, .width = tower->facts.width,
                           .heads = heads, .head = task % heads, .out = space->values, .out_step = buffers->step};
    if (call->texts == NULL) {
        attention.length = part->rows / part->sequences;
        const long first = task / heads * attention.length;
        attention.qkv = value_at(attention.qkv, tower->format, first * buffers->qkv_step);
        attention.out = value_at(attention.out, tower->format, first * buffers->step);
    } else {
        const long at = (part->sequence + task / heads) * call->length;
        attention.index = (number ? call->groups : buffers->twins) + at;
        attention.owned = buffers->owned + at;
        attention.ends = call->ends + at;
        attention.first = part->row;
        attention.asked = part->rows;
        attention.length = call->length;
    }
    return attention;
}

/* The attention of all heads in all sequences of a part, to the workspace's values; a step. */
static void attend_rows(const Tower *tower, const Call *call, const Workspace *space, const Part *part, long number)
{
    const long tasks = part->sequences * tower->facts.heads;
    const Kernels *kernels = floats(tower);
    for (long task; (task = next_task(space->team)) < tasks;) {
        Attention attention = find_head(tower, call, space, part, number, task);
        if (task + space->team->threads < tasks) {
            const Attention next = find_head(tower, call, space, part, number, task + space->team->threads);
            prefetch_head(&next, tower->format);
        }
        /* What follows the last row that is asked for is not seen, and may be another part's, not there yet. */
        while (attention.owned != NULL && attention.length > 0 &&
               (attention.owned[attention.length - 1] < part->row ||
                attention.owned[attention.length - 1] >= part->row + part->rows))
            attention.length--;
        kernels->attend(&attention, space->scratch);
    }
    barrier(space->team);
}

/* Copy what a call wants to see of the rows behind a layer, [layers, rows, width]; a step. */
static void watch_rows(const Tower *tower, const Call *call, const Workspace *space, const Part *part, long layer)
{
    const Buffers *buffers = &tower->buffers;
    const long width = tower->facts.width;
    if (call->watched == NULL)
        return;
    for (long task; (task = next_task(space->team)) < part->rows;)
        memcpy(call->watched + (layer * buffers->count + part->row + task) * width,
               buffers->rows + (part->row + task) * buffers->step, (size_t)width * 4);
    barrier(space->team);
}

/* What a layer does behind its attention, whose means are the workspace's values: proj, fc1 and fc2, added to rows. */
static void map_layer(const Tower *tower, const Workspace *space, const Layer *layer, float *rows, long count)
{
    const Buffers *buffers = &tower->buffers;
    const long step = buffers->step;
    const Epilogue sum = {.out = rows, .format = F32, .out_step = step, .added = rows, .added_step = step};
    const void *values = space->values;
    if (layer->proj.format == INT8) {
        quantize_rows(tower, space, NULL, NULL, count, NULL, &layer->quantizers[1]);
        values = space->bytes;
    }
    map_rows(tower, space, values, step, count, &layer->proj, sum);
    map_normalized(tower, space, layer, 2, rows, NULL, count,
                   (Epilogue){.out = space->hidden, .format = layer->fc1.format, .out_step = buffers->hidden_step,
                              .activation = (Activation)tower->facts.activation, .quantizer = &layer->quantizers[3]});
    map_rows(tower, space, space->hidden, buffers->hidden_step, count, &layer->fc2, sum);
}

/* A layer over the rows of a part, in place, from its attention to the next one's queries, keys and values; the last layer
 * is `pool_rows`. */
static void run_layer(const Tower *tower, const Call *call, const Workspace *space, const Part *part, long number)
{
    const Buffers *buffers = &tower->buffers;
    float *rows = buffers->rows + part->row * buffers->step;
    attend_rows(tower, call, space, part, number);
    map_layer(tower, space, &tower->layers[number], rows, part->rows);
    watch_rows(tower, call, space, part, number + 1);
    if (number + 2 < tower->facts.layers) {
        if (call->texts != NULL) /* others may still read there what the layer before wrote */
            await(buffers, buffers->parts, number);
        project_qkv(tower, space, rows, NULL, part->rows, call->texts == NULL ? 0 : part->row, number + 1);
    }
}

/* The rows of the first layer, of some texts; a step. */
static void embed_tokens(const Tower *tower, const Call *call, const Workspace *space, const Part *part)
{
    const Buffers *buffers = &tower->buffers;
    const long width = tower->facts.width, end = part->row + part->rows;
    for (long task; (task = part->row + next_task(space->team) * FEW) < end;)
        for (long i = task; i < end && i < task + FEW; i++) {
            const long position = call->positions == NULL ? i % tower->length : call->positions[i];
            f32(tower)->add(tower->tokens + call->ids[i] * width, tower->positions + position * width, width,
                            buffers->rows + i * buffers->step);
        }
    barrier(space->team);
}

/* Patches as rows of the workspace's hidden values; a step. */
static void cut_patches(const Tower *tower, const Call *call, const Workspace *space, const Part *part)
{
    const Facts *facts = &tower->facts;
    const Format format = tower->patches.format;
    const long grid = facts->grid, side = facts->patch_size, line = side * 3, size = facts->image_size;
    const long step = tower->buffers.hidden_step;
    for (long task; (task = next_task(space->team)) < part->sequences * grid;) {
        const uint8_t *from = call->pixels + ((part->sequence + task / grid) * size + task % grid * side) * size * 3;
        for (long x = 0; x < grid; x++) {
            const long row = (task * grid + x) * step;
            for (long y = 0; y < side; y++) {
                const uint8_t *pixels = from + (y * size + x * side) * 3;
                void *to = value_at(space->hidden, format, row + y * line);
                if (format == INT8) /* the center is the zero point */
                    memcpy(to, pixels, (size_t)line);
                else
                    floats(tower)->center(pixels, line, (float)facts->center, to);
            }
            if (side * line % per_word[format]) /* zeros up to a whole word: what lies there may be NaN */
                memset(value_at(space->hidden, format, row + side * line), 0, 4 - (size_t)(side * line % per_word[format] * 4 / per_word[format]));
        }
    }
    barrier(space->team);
}

/* The rows of the first layer, of some images. */
static void embed_patches(const Tower *tower, const Call *call, const Workspace *space, const Part *part)
{
    const Facts *facts = &tower->facts;
    const Buffers *buffers = &tower->buffers;
    const long patches = facts->grid * facts->grid, length = tower->length, width = facts->width, step = buffers->step;
    float *rows = buffers->rows + part->row * step, *embedded = buffers->embedded + part->row * step;
    cut_patches(tower, call, space, part);
    map_rows(tower, space, space->hidden, buffers->hidden_step, part->sequences * patches, &tower->patches,
             (Epilogue){.out = embedded, .format = F32, .out_step = step});
    for (long task; (task = next_task(space->team)) * FEW < part->rows;)
        for (long i = task * FEW; i < part->rows && i < (task + 1) * FEW; i++) {
            const long image = i / length, patch = i % length - facts->cls_token;
            float *row = rows + i * step;
            if (patch < 0)
                memcpy(row, tower->cls_token, (size_t)width * 4);
            else
                f32(tower)->add(embedded + (image * patches + patch) * step, tower->positions + patch * width, width, row);
            if (facts->input_norm)
                f32(tower)->normalize(row, width, (float)facts->epsilon, tower->norm_pre, row);
        }
    barrier(space->team);
}

/* What the row of each sequence that is pooled looks for, by heads: its queries, through the last layer's keys. */
static void fold_queries(const Tower *tower, const Call *call, const Workspace *space)
{
    const Facts *facts = &tower->facts;
    const Buffers *buffers = &tower->buffers;
    const long step = buffers->step, width = facts->width, side = width / facts->heads, count = call->count;
    const long full = round_up(width, FILL);
    for (long task; (task = next_task(space->team)) < count;) {
        long row = task * tower->length; /* of images the first, of texts that come whole the last */
        if (call->texts != NULL)
            row = call->texts[task * call->longest + call->pooled[task]];
        else if (call->ids != NULL)
            row += tower->length - 1;
        memcpy(buffers->pooled + task * step, buffers->rows + row * step, (size_t)width * 4);
    }
    barrier(space->team);
    normalize_rows(tower, space, buffers->pooled, NULL, count);
    map_rows(tower, space, space->values, step, count, &tower->layers[facts->layers - 1].qkv,
             (Epilogue){.out = buffers->query, .format = F32, .out_step = step});
    for (long i = 0; i < facts->heads; i++) {
        Linear keys = tower->keys;
        keys.panels = (const float *)keys.panels + i * side * full;
        map_rows(tower, space, buffers->query + i * side, step, count, &keys,
                 (Epilogue){.out = buffers->folded + i * full, .format = F32, .out_step = facts->heads * full});
    }
}

/* The attention of the last layer, for one row of each sequence, to the workspace's values. It is f32 in every precision. */
static void attend_pooled(const Tower *tower, const Call *call, const Workspace *space)
{
    const Facts *facts = &tower->facts;
    const Buffers *buffers = &tower->buffers;
    const long step = buffers->step, width = facts->width, heads = facts->heads, side = width / heads;
    const long columns = round_up(side, FILL), full = round_up(width, FILL), count = call->count;
    if (!facts->attention_pool)
        fold_queries(tower, call, space);
    for (long task; (task = next_task(space->team)) < count;) {
        Pooling pooling = {.rows = buffers->rows, .step = step, .width = width, .heads = heads,
                           .epsilon = (float)facts->epsilon, .queries = buffers->folded + task * heads * full};
        if (facts->attention_pool) { /* the same queries for all, and nothing to add to */
            memcpy(pooling.queries, tower->folded, (size_t)(heads * full) * 4);
            memset(buffers->pooled + task * step, 0, (size_t)width * 4);
        }
        if (call->texts == NULL) {
            pooling.rows += task * tower->length * step;
            pooling.length = tower->length;
        } else {
            pooling.index = call->texts + task * call->longest;
            pooling.length = call->pooled[task] + 1;
        }
        f32(tower)->pool(&pooling, space->scratch);
    }
    barrier(space->team);
    for (long i = 0; i < heads; i++) {
        Linear values = tower->values;
        values.panels = (const float *)values.panels + i * width * columns;
        map_rows(tower, space, buffers->folded + i * full, heads * full, count, &values,
                 (Epilogue){.out = buffers->query + i * side, .format = F32, .out_step = step});
    }
    for (long task; (task = next_task(space->team)) < count;)
        floats(tower)->convert(buffers->query + task * step, width, value_at(space->values, tower->format, task * step));
    barrier(space->team);
}

/* The last layer for one row of each sequence, and the projection. */
static void pool_rows(const Tower *tower, const Call *call, const Workspace *space)
{
    const Facts *facts = &tower->facts;
    const Buffers *buffers = &tower->buffers;
    const long step = buffers->step, width = facts->width;
    attend_pooled(tower, call, space);
    map_layer(tower, space, &tower->layers[facts->layers - 1], buffers->pooled, call->count);
    for (long task; (task = next_task(space->team)) < call->count;) {
        float *row = buffers->pooled + task * step;
        if (call->watched != NULL)
            memcpy(call->watched + (facts->layers * buffers->count + task) * width, row, (size_t)width * 4);
        if (!facts->attention_pool) /* which has its normalization before it */
            f32(tower)->normalize(row, width, (float)facts->epsilon, tower->norm_post, row);
        if (!facts->projected)
            memcpy(call->out + task * width, row, (size_t)width * 4);
    }
    barrier(space->team);
    if (facts->projected)
        map_rows(tower, space, buffers->pooled, step, call->count, &tower->projection,
                 (Epilogue){.out = call->out, .format = F32, .out_step = facts->dim});
}

/* The layers but the last over some sequences of one length. */
static void run_part(const Tower *tower, const Call *call, const Workspace *space, const Part *part)
{
    const float *rows = tower->buffers.rows + part->row * tower->buffers.step;
    if (tower->facts.image_size)
        embed_patches(tower, call, space, part);
    else
        embed_tokens(tower, call, space, part);
    watch_rows(tower, call, space, part, 0);
    if (tower->facts.layers > 1)
        project_qkv(tower, space, rows, NULL, part->rows, 0, 0);
    for (long i = 0; i + 1 < tower->facts.layers; i++)
        run_layer(tower, call, space, part, i);
}

/* Sequences of one length. */
static void run_sequences(const Tower *tower, const Call *call, const Workspace *all)
{
    const Buffers *buffers = &tower->buffers;
    const Workspace *alone = all + 1;
    const long length = tower->length, own = buffers->parts * buffers->images;
    for (long task; (task = next_task(all->team)) < buffers->parts;) {
        const long first = task * buffers->images;
        const Part part = {first * length, buffers->images * length, first, buffers->images};
        run_part(tower, call, alone, &part);
    }
    barrier(all->team);
    if (own < call->count) {
        const Part rest = {own * length, (call->count - own) * length, own, call->count - own};
        run_part(tower, call, all, &rest);
    }
}

/* Packed texts. */
static void run_texts(const Tower *tower, const Call *call, const Workspace *all)
{
    const Buffers *buffers = &tower->buffers;
    const Workspace *alone = all + 1;
    const Part batch = {0, call->rows, 0, call->group_count};
    const long layers = tower->facts.layers - 1;
    embed_tokens(tower, call, all, &batch);
    watch_rows(tower, call, all, &batch, 0);
    /* Before the first attention equal tokens in equal positions are equal. */
    if (layers > 0)
        project_qkv(tower, all, buffers->rows, buffers->firsts, buffers->distinct, 0, 0);
    /* A part of a layer needs that those up to it are through the layer before. */
    for (long task; (task = next_task(all->team)) < buffers->parts * layers;) {
        const long number = task / buffers->parts, part = task % buffers->parts;
        await(buffers, part + 1, number);
        run_layer(tower, call, alone, &buffers->shares[part], number);
        atomic_store_explicit(&buffers->passed[part], number + 1, memory_order_release);
    }
    barrier(all->team);
    if (!buffers->parts)
        for (long i = 0; i < layers; i++)
            run_layer(tower, call, all, &batch, i);
}

void run_layers(Tower *tower, const Call *call, int me)
{
    const Workspace *all = &tower->buffers.workspaces[2 * me];
    if (tower->length)
        run_sequences(tower, call, all);
    else
        run_texts(tower, call, all);
    pool_rows(tower, call, all);
}

#endif
