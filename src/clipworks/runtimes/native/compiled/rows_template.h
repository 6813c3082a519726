/* What is computed on rows of F32 or BF16 besides GEMMs; a file of an instruction set includes this once for each format,
 * behind gemm_template.h. VALUE is the type of a value; GEMM is what multiplies, gemm_panel if nothing is defined. */

#ifndef GEMM
#define GEMM gemm_panel
#endif

/* What e is raised to at least: e to it is 0, and the maximum keeps NaN. */
#define LOWEST -104.0f
#define PER_WORD (FORMAT == BF16 ? 2 : 1)

INLINE void put(VALUE *to, Vector x, long n)
{
#if IS_BF16
    v_store_bf16(to, x, n);
#else
    v_store_n(to, x, n);
#endif
}

/* The last values of a row, and zeros up to a whole word: they meet zeros in the weights, but NaN times zero is NaN. */
INLINE void put_last(VALUE *to, Vector x, long n)
{
    put(to, v_first(x, n), n + n % PER_WORD);
}

static void normalize(const float *row, long width, float epsilon, const float *const norm[2], void *out)
{
    Vector sum = v_set(0.0f), squares = v_set(0.0f);
    for (long j = 0; j < width; j += LANES)
        sum = sum + v_load_n(row + j, width - j);
    const Vector mean = v_set(v_sum(sum) / (float)width);
    for (long j = 0; j < width; j += LANES) {
        Vector rest = v_first(v_load_n(row + j, width - j) - mean, width - j);
        squares = v_fma(rest, rest, squares);
    }
    float variance = v_sum(squares) / (float)width + epsilon;
    if (!(variance <= 3.40282347e38f)) /* squares that overflow are no reason for values of 0 */
        variance = NAN;
    const Vector factor = v_set(1.0f) / v_sqrt(v_set(variance));
    for (long j = 0; j < width; j += LANES) {
        Vector x = (v_load_n(row + j, width - j) - mean) * factor;
        if (norm != NULL)
            x = v_fma(x, v_load_n(norm[0] + j, width - j), v_load_n(norm[1] + j, width - j));
        put_last((VALUE *)out + j, x, width - j);
    }
}

static void convert(const float *row, long width, void *out)
{
    for (long j = 0; j < width; j += LANES)
        put_last((VALUE *)out + j, v_load_n(row + j, width - j), width - j);
}

static void center(const uint8_t *pixels, long count, float center, void *out)
{
    for (long j = 0; j < count; j += LANES)
        put((VALUE *)out + j, v_load_u8(pixels + j, count - j) - v_set(center), count - j);
}

/* sums[rows, columns] = a times b, both as they lie, in panels of columns. */
INLINE void multiply(const uint32_t *a, long a_step, long rows, const uint32_t *b, long b_step, long words,
                           long columns, float *sums, long sums_step)
{
    for (long j = 0; j < columns; j += NR) {
        Gemm gemm = {.a = a, .a_step = a_step, .b = b + j, .b_step = b_step, .words = words, .sums = sums + j,
                     .sums_step = sums_step};
        GEMM(&gemm, rows, columns - j < NR ? columns - j : NR);
    }
}

INLINE const VALUE *row_at(const Attention *attention, long place)
{
    const long row = attention->index == NULL ? place : attention->index[place];
    return (const VALUE *)attention->qkv + row * attention->step;
}

/* Keys as a matrix of [words, padded], values as one of [deep, wide]. */
INLINE void pack_head(const Attention *attention, long side, long padded, uint32_t *keys, uint32_t *values)
{
    const long length = attention->length, words = (side + PER_WORD - 1) / PER_WORD, wide = round_up(side, FILL);
    const long deep = (length + PER_WORD - 1) / PER_WORD, key = attention->width + attention->head * side;
    const long value = key + attention->width;
    for (long i = 0; i < padded; i += LANES)
        for (long k = 0; k < words; k += LANES) {
            const uint32_t *from[LANES];
            for (long l = 0; l < LANES; l++)
                from[l] = i + l < length ? (const uint32_t *)(row_at(attention, i + l) + key) + k : NULL;
            v_transpose(from, length - i, words - k, keys + k * padded + i, padded);
        }
    for (long i = 0; i < deep; i++)
        for (long j = 0; j < wide; j += LANES) {
#if IS_BF16
            const uint16_t *odd = 2 * i + 1 < length ? row_at(attention, 2 * i + 1) + value + j : NULL;
            v_interleave(row_at(attention, 2 * i) + value + j, odd, side - j, values + i * wide + j);
#else
            v_store((float *)values + i * wide + j, v_load_n(row_at(attention, i) + value + j, side - j));
#endif
        }
}

/* Scores of one query to weights that sum to one; those that it does not see become 0. */
INLINE void softmax(float *scores, long seen, long lanes, const int32_t *ends, long place, VALUE *weights)
{
    Vector most = v_set(-INFINITY), sum = v_set(0.0f);
    for (long j = 0; j < lanes; j += LANES) {
        const long before = ends != NULL && place + 1 < seen ? place + 1 : seen;
        Vector x = v_hide(v_load(scores + j), before - j, ends == NULL ? NULL : ends + j, place);
        v_store(scores + j, x);
        most = v_max(most, x);
    }
    most = v_set(v_largest(most));
    for (long j = 0; j < lanes; j += LANES) {
        Vector x = v_load(scores + j);
        x = v_unless_hidden(x, v_exp(v_max(v_set(LOWEST), x - most)));
        sum = sum + x;
        v_store(scores + j, x);
    }
    const Vector factor = v_set(1.0f / v_sum(sum));
    for (long j = 0; j < lanes; j += LANES)
        put(weights + j, v_load(scores + j) * factor, LANES);
}

static void attend(const Attention *attention, char *scratch)
{
    const long length = attention->length, padded = round_up(length, FILL), side = attention->width / attention->heads;
    const long words = (side + PER_WORD - 1) / PER_WORD, wide = round_up(side, FILL), query = attention->head * side;
    const int32_t *owned = attention->owned, *ends = attention->ends;
    uint32_t *keys = (uint32_t *)scratch;                       /* [words, padded] */
    uint32_t *values = keys + round_up(words, FILL) * padded;   /* [deep, wide] */
    uint32_t *queries = values + (length + PER_WORD - 1) / PER_WORD * wide; /* [QUERIES, words] */
    float *scores = (float *)(queries + QUERIES * words);       /* [QUERIES, padded] */
    VALUE *weights = (VALUE *)(scores + QUERIES * padded);      /* [QUERIES, padded] */
    float *means = (float *)(weights + QUERIES * padded);       /* [QUERIES, wide] */
    pack_head(attention, side, padded, keys, values);
    for (long begin = 0; begin < length;) {
        long places[QUERIES], count = 0;
        for (; begin < length && count < QUERIES; begin++)
            if (owned == NULL ||
                (owned[begin] >= attention->first && owned[begin] < attention->first + attention->asked))
                places[count++] = begin;
        if (!count)
            break;
        for (long i = 0; i < count; i++) {
            VALUE *copy = (VALUE *)(queries + i * words);
            memcpy(copy, row_at(attention, places[i]) + query, (size_t)side * sizeof *copy);
            if (side % PER_WORD) /* the other half of the last word belongs to the next head */
                copy[side] = 0;
        }
        const long seen = ends == NULL ? length : places[count - 1] + 1, lanes = round_up(seen, FILL);
        multiply(queries, words, count, keys, padded, words, seen, scores, padded);
        for (long i = 0; i < count; i++)
            softmax(scores + i * padded, seen, lanes, ends, places[i], weights + i * padded);
        multiply((const uint32_t *)weights, padded / PER_WORD, count, values, wide,
                       (seen + PER_WORD - 1) / PER_WORD, side, means, wide);
        for (long i = 0; i < count; i++) {
            const long row = (owned == NULL ? places[i] : owned[places[i]]) - attention->first;
            VALUE *to = (VALUE *)attention->out + row * attention->out_step;
            for (long j = 0; j < side; j += LANES)
                put(to + query + j, v_load(means + i * wide + j), side - j);
            if (attention->width % PER_WORD && attention->head == attention->heads - 1) /* as in put_last */
                to[attention->width] = 0;
        }
    }
}

#if !IS_BF16

static void add(const float *one, const float *other, long width, float *out)
{
    for (long j = 0; j < width; j += LANES)
        v_store(out + j, v_load_n(one + j, width - j) + v_load_n(other + j, width - j));
}

static void pool(const Pooling *pooling, char *scratch)
{
    const long width = pooling->width, heads = pooling->heads, length = pooling->length, full = round_up(width, FILL);
    const long lanes = round_up(heads, FILL), padded = round_up(length, FILL);
    uint32_t *turned = (uint32_t *)scratch;                     /* [full, lanes] */
    float *scores = (float *)(turned + full * lanes);           /* [padded, lanes] */
    uint32_t *weights = (uint32_t *)(scores + padded * lanes);  /* [lanes, padded] */
    float *normal = (float *)(weights + lanes * padded);        /* [length, full] */
    const uint32_t *from[LANES];
    for (long i = 0; i < length; i++) {
        const long row = pooling->index == NULL ? i : pooling->index[i];
        normalize(pooling->rows + row * pooling->step, width, pooling->epsilon, NULL, normal + i * full);
    }
    for (long i = 0; i < lanes; i += LANES)
        for (long k = 0; k < full; k += LANES) {
            for (long l = 0; l < LANES; l++)
                from[l] = (const uint32_t *)pooling->queries + (i + l < heads ? i + l : 0) * full + k;
            v_transpose(from, heads - i, width - k, turned + k * lanes + i, lanes);
        }
    multiply((const uint32_t *)normal, full, length, turned, lanes, width, heads, scores, lanes);
    for (long i = 0; i < lanes; i += LANES) {
        Vector most = v_set(-INFINITY), sum = v_set(0.0f);
        for (long j = 0; j < length; j++)
            most = v_max(most, v_load(scores + j * lanes + i));
        for (long j = 0; j < length; j++) {
            Vector x = v_exp(v_max(v_set(LOWEST), v_load(scores + j * lanes + i) - most));
            sum = sum + x;
            v_store(scores + j * lanes + i, x);
        }
        for (long j = 0; j < length; j++)
            v_store(scores + j * lanes + i, v_load(scores + j * lanes + i) / sum);
        for (long j = 0; j < padded; j += LANES) {
            for (long l = 0; l < LANES; l++)
                from[l] = (const uint32_t *)scores + (j + l < length ? j + l : 0) * lanes + i;
            v_transpose(from, length - j, LANES, weights + i * padded + j, padded);
        }
    }
    multiply(weights, padded, heads, (const uint32_t *)normal, full, length, width, pooling->queries, full);
}

#endif
