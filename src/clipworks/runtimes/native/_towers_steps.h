/* The steps of a tower in one precision; _towers.c includes this once for each.
 *
 * It defines, before: NAME(x), a name of this precision; VALUE, the type of a product's factors; PER_WORD, how many of
 * them a 32-bit word holds; TOTAL, the type of a vector of sums; MULTIPLY(sums, a, b), which adds the products of all
 * values of two words to each; TARGET, the instructions. Factors lie in rows of words; a packed matrix in panels,
 * [words, columns] each.
 *
 * Of int8 (PER_WORD 4) the factors on the left are bytes above a zero point, and sums are whole numbers. It has steps
 * of its own for the layers, and float ones, of the tower's other precision, for attentions and the last layer.
 */

#if PER_WORD == 4

/* The bytes that stand for values; no byte stands for NaN or Inf, so that is told. */
INLINE TARGET void NAME(put)(uint8_t *to, __m512 values, __mmask16 mask, const Grid *grid)
{
    if (__builtin_expect(_mm512_mask_fpclass_ps_mask(mask, values, 0x99), 0)) /* NaN of both kinds, Inf of both signs */
        atomic_store_explicit(grid->broken, 1, memory_order_relaxed);
    __m512 scaled = _mm512_min_ps(_mm512_mul_ps(values, _mm512_set1_ps(grid->inverse)), _mm512_set1_ps(1e6f));
    __m512i whole = _mm512_cvtps_epi32(scaled);
    whole = _mm512_add_epi32(whole, _mm512_set1_epi32(grid->zero));
    _mm_mask_storeu_epi8(to, mask, _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512())));
}

#else

INLINE TARGET void NAME(put)(VALUE *to, __m512 values, __mmask16 mask)
{
#if PER_WORD == 1
    _mm512_mask_storeu_ps(to, mask, values);
#else
    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(values));
#endif
}

/* The last values of a row, and zeros up to a whole word: they meet zeros in the weights, but NaN times zero is NaN. */
INLINE TARGET void NAME(put_end)(VALUE *to, __m512 values, long count)
{
    values = _mm512_maskz_mov_ps(first_lanes(count), values);
    NAME(put)(to, values, first_lanes(count + count % PER_WORD));
}

#endif

/* Where a product goes: rows of f32, to which rows may be added, or of factors, behind an activation. */
typedef struct {
    float *sums; /* or NULL */
    const float *added;
    long added_step;
    VALUE *values;
    Activation activation;
#if PER_WORD == 4
    const Grid *grid; /* of the values, which have an activation */
    uint16_t *halves; /* or bf16, without one */
#endif
    long step;
} NAME(Goal);

/* Rows of factors times a panel of up to PANEL columns: a[rows, words] times b[words, columns], kept in `to` or added to
 * what is there. With a goal the sums go on to it, as its rows from `row` and its columns from `column` on. */
typedef struct {
    const uint32_t *a, *b;
    long a_step, b_step, words;
    float *to;
    long to_step;
    int add;
    const char *ahead; /* what is read next, or NULL: a line of it is fetched with every word, `pace` bytes on */
    long pace;
    const Map *map;
    const NAME(Goal) *goal; /* or NULL */
    long row, column;
} NAME(Product);

/* A vector of sums to its place in the goal, and what is added from its place there; `left` values of it count. */
INLINE TARGET void NAME(send)(TOTAL total, __m512 scale, __m512 bias, const NAME(Goal) *goal, long place, long added,
                              long left, const Ending ending)
{
    const __mmask16 mask = first_lanes(left);
    const Activation activation = ending == QUICK_VALUES ? QUICK : ending == GELU_VALUES ? GELU : TANH;
#if PER_WORD == 4
    __m512 x = _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)total), scale, bias);
#else
    (void)scale;
    __m512 x = _mm512_add_ps(total, bias);
#endif
    if (ending == QUICK_VALUES || ending == GELU_VALUES || ending == TANH_VALUES)
        x = PER_WORD == 1 ? activate(x, activation) : activate_roughly(x, activation);
    if (ending == SUMS) {
        if (goal->added != NULL)
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, goal->added + added));
        _mm512_mask_storeu_ps(goal->sums + place, mask, x);
    }
#if PER_WORD == 4
    else if (ending == PLAIN_VALUES)
        _mm256_mask_storeu_epi16(goal->halves + place, mask, halve(x));
    else
        NAME(put)(goal->values + place, x, mask, goal->grid);
#else
    else
        NAME(put_end)(goal->values + place, x, left);
#endif
}

/* What a map adds to its sums, and how much they are worth, from a column on. */
INLINE TARGET __m512 NAME(bias)(const Map *map, long column, __mmask16 mask)
{
    return map->bias == NULL ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, map->bias + column);
}

INLINE TARGET __m512 NAME(scale)(const Map *map, long column, __mmask16 mask)
{
    return PER_WORD == 4 ? _mm512_maskz_loadu_ps(mask, map->scales + column) : _mm512_setzero_ps();
}

/* The inner loop, for some rows and vectors of columns. The sums of a whole panel go to their goal from the registers;
 * `ending`: how. */
INLINE TARGET void NAME(strip)(const NAME(Product) *product, const int rows, const int vectors, const Ending ending)
{
    const uint32_t *a = product->a, *b = product->b;
    const long a_step = product->a_step, b_step = product->b_step, words = product->words, to_step = product->to_step;
    const long pace = product->pace;
    const char *ahead = product->ahead;
    float *to = product->to;
    TOTAL sums[STRIP][3];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            sums[i][j] = (TOTAL)(product->add ? _mm512_loadu_ps(to + i * to_step + j * LANES) : _mm512_setzero_ps());
    for (long k = 0; k < words; k++) {
        __m512i right[3];
        UNROLL for (int j = 0; j < vectors; j++)
            right[j] = _mm512_loadu_si512(b + k * b_step + j * LANES);
        _mm_prefetch(ahead + k * pace, _MM_HINT_T1);
        UNROLL for (int i = 0; i < rows; i++) {
            __m512i left = _mm512_set1_epi32((int)a[i * a_step + k]);
            UNROLL for (int j = 0; j < vectors; j++)
                sums[i][j] = MULTIPLY(sums[i][j], left, right[j]);
        }
    }
    if (ending == KEPT) {
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++)
                _mm512_storeu_ps(to + i * to_step + j * LANES, (__m512)sums[i][j]);
        return;
    }
    const NAME(Goal) goal = *product->goal; /* a copy: what is stored cannot change it */
    const Map map = *product->map;
    const long column = product->column, place = product->row * goal.step + column;
    const long added = product->row * goal.added_step + column;
    UNROLL for (int j = 0; j < vectors; j++) {
        __m512 bias = NAME(bias)(&map, column + j * LANES, 0xFFFF), scale = NAME(scale)(&map, column + j * LANES, 0xFFFF);
        UNROLL for (int i = 0; i < rows; i++)
            NAME(send)(sums[i][j], scale, bias, &goal, place + i * goal.step + j * LANES,
                       added + i * goal.added_step + j * LANES, LANES, ending);
    }
}

typedef void NAME(Strip)(const NAME(Product) *);

#define ONE_STRIP(rows, vectors, ending)                                                                               \
    static TARGET void NAME(strip_##rows##_##vectors##_##ending)(const NAME(Product) *product)                         \
    {                                                                                                                  \
        NAME(strip)(product, rows, vectors, ending);                                                                   \
    }
#define STRIPS(rows)                                                                                                   \
    ONE_STRIP(rows, 1, KEPT)                                                                                           \
    ONE_STRIP(rows, 2, KEPT)                                                                                           \
    ONE_STRIP(rows, 3, KEPT)                                                                                           \
    ONE_STRIP(rows, 3, SUMS)                                                                                           \
    ONE_STRIP(rows, 3, PLAIN_VALUES)                                                                                   \
    ONE_STRIP(rows, 3, QUICK_VALUES)                                                                                   \
    ONE_STRIP(rows, 3, GELU_VALUES)                                                                                    \
    ONE_STRIP(rows, 3, TANH_VALUES)
STRIPS(1) STRIPS(2) STRIPS(3) STRIPS(4) STRIPS(5) STRIPS(6) STRIPS(7) STRIPS(8)
#undef STRIPS
#undef ONE_STRIP

#define STRIPS(rows)                                                                                                   \
    {{NAME(strip_##rows##_1_KEPT), NAME(strip_##rows##_2_KEPT), NAME(strip_##rows##_3_KEPT)},                          \
     {NAME(strip_##rows##_3_SUMS), NAME(strip_##rows##_3_PLAIN_VALUES), NAME(strip_##rows##_3_QUICK_VALUES),           \
      NAME(strip_##rows##_3_GELU_VALUES), NAME(strip_##rows##_3_TANH_VALUES)}}
/* By rows: those that keep their sums, by vectors, and the others by their ending. */
static const struct {
    NAME(Strip) *kept[3], *ended[5];
} NAME(strips)[STRIP] = {STRIPS(1), STRIPS(2), STRIPS(3), STRIPS(4), STRIPS(5), STRIPS(6), STRIPS(7), STRIPS(8)};
#undef STRIPS

/* Rows of sums, PANEL apart, to their goal. */
INLINE TARGET void NAME(finish_as)(const NAME(Product) *product, long rows, long columns, const Ending ending)
{
    const NAME(Goal) goal = *product->goal;
    for (long j = 0; j < columns; j += LANES) {
        const long column = product->column + j;
        __mmask16 mask = first_lanes(columns - j);
        __m512 bias = NAME(bias)(product->map, column, mask), scale = NAME(scale)(product->map, column, mask);
        for (long i = 0; i < rows; i++)
            NAME(send)((TOTAL)_mm512_loadu_ps(product->to + i * PANEL + j), scale, bias, &goal,
                       (product->row + i) * goal.step + column, (product->row + i) * goal.added_step + column,
                       columns - j, ending);
    }
}

static TARGET void NAME(finish)(const NAME(Product) *product, long rows, long columns, Ending ending)
{
    if (ending == SUMS)
        NAME(finish_as)(product, rows, columns, SUMS);
    else if (ending == PLAIN_VALUES)
        NAME(finish_as)(product, rows, columns, PLAIN_VALUES);
    else if (ending == QUICK_VALUES)
        NAME(finish_as)(product, rows, columns, QUICK_VALUES);
    else if (ending == GELU_VALUES)
        NAME(finish_as)(product, rows, columns, GELU_VALUES);
    else
        NAME(finish_as)(product, rows, columns, TANH_VALUES);
}

/* A product of so many rows and columns; the rows shared out evenly to strips. Where there is a goal, the rows of `to`
 * are PANEL apart, and it holds what is added to, or else one strip at a time. */
INLINE TARGET void NAME(columns)(const NAME(Product) *product, long rows, long columns)
{
    const NAME(Goal) *goal = product->goal;
    const long strips = (rows + STRIP - 1) / STRIP, vectors = (columns + LANES - 1) / LANES, least = rows / strips;
    const Ending ending = goal == NULL ? KEPT : goal->sums != NULL ? SUMS : PLAIN_VALUES + (Ending)goal->activation;
    NAME(Product) part = *product;
    const float *added = NULL;
    if (goal != NULL && goal->added != NULL)
        added = goal->added + part.row * goal->added_step + part.column;
    if (part.ahead != NULL)
        part.pace = strips < 3 ? 64 : (vectors * 64 + strips - 1) / strips;
    for (long i = 0; i < strips; i++) {
        const long count = least + (i < rows - least * strips);
        if (product->ahead == NULL)
            part.ahead = (const char *)part.a;
        if (added != NULL)
            for (long j = 0; j < count; j++, added += goal->added_step)
                UNROLL for (long k = 0; k < PANEL; k += LANES)
                    _mm_prefetch((const char *)(added + k), _MM_HINT_T1);
        if (goal != NULL && columns == PANEL) {
            NAME(strips)[count - 1].ended[ending - SUMS](&part);
        } else {
            NAME(strips)[count - 1].kept[vectors - 1](&part);
            if (goal != NULL)
                NAME(finish)(&part, count, columns, ending);
        }
        part.a += count * part.a_step;
        part.row += count;
        if (goal == NULL || part.add)
            part.to += count * part.to_step;
        part.ahead += part.words * part.pace;
    }
}

#if PER_WORD != 4

/* to[rows, columns] = a times b, both as they lie, in panels of columns. */
INLINE TARGET void NAME(multiply)(const uint32_t *a, long a_step, long rows, const uint32_t *b, long b_step, long words,
                                  long columns, float *to, long to_step)
{
    for (long j = 0; j < columns; j += PANEL) {
        NAME(Product) product = {.a = a, .a_step = a_step, .b = b + j, .b_step = b_step, .words = words, .to = to + j,
                                 .to_step = to_step};
        NAME(columns)(&product, rows, columns - j < PANEL ? columns - j : PANEL);
    }
}

#endif

/* A linear map of rows of factors; a step of a team. Its tasks are blocks of rows by panels, block after block, so that
 * a block stays in a core's cache while the panels pass by. */
static TARGET void NAME(map)(const Desk *desk, const VALUE *rows, long step, long count, Map map, NAME(Goal) goal)
{
    long words = (map.inputs + PER_WORD - 1) / PER_WORD, panels = (map.outputs + PANEL - 1) / PANEL;
    long depths = (words + DEPTH - 1) / DEPTH, blocks = (count + BLOCK - 1) / BLOCK, a_step = step / PER_WORD;
    for (long task; (task = take(desk->team)) < panels * blocks;) {
        long block = task / panels, panel = task % panels;
        long begin = count * block / blocks, height = count * (block + 1) / blocks - begin;
        long columns = map.outputs - panel * PANEL < PANEL ? map.outputs - panel * PANEL : PANEL;
        long b_step = (long)round_up((size_t)columns, LANES);
        const uint32_t *a = (const uint32_t *)rows + begin * a_step;
        const uint32_t *b = (const uint32_t *)map.panels + panel * words * PANEL;
        NAME(Product) product = {.a_step = a_step, .b_step = b_step, .to = (float *)desk->scratch, .to_step = PANEL,
                                 .map = &map, .row = begin, .column = panel * PANEL};
        for (long i = 0; i < depths; i++) {
            long from = words * i / depths, until = words * (i + 1) / depths;
            product.a = a + from;
            product.b = b + from * b_step;
            product.words = until - from;
            product.add = i > 0;
            product.goal = i + 1 < depths ? NULL : &goal;
            /* Behind the last panel lies the next map. */
            product.ahead = (const char *)(b + (i + 1 < depths ? until * b_step : words * PANEL * desk->team->threads));
            NAME(columns)(&product, height, columns);
        }
    }
    meet(desk->team);
}

#if PER_WORD == 4

/* Rows of f32 or bf16 to bytes of the same step, normalised and times gain if there is one; a step of a team. `index`:
 * which of the rows; NULL for those in order. */
static TARGET void NAME(round)(Tower *tower, const Desk *desk, const float *rows, const uint16_t *halves,
                               const int32_t *index, long count, const float *gain, const Grid *grid)
{
    long width = tower->facts.width, step = tower->work.step;
    float *normal = (float *)desk->scratch;
    for (long task; (task = take(desk->team)) * STRIP < count;)
        for (long i = task * STRIP; i < count && i < (task + 1) * STRIP; i++) {
            const float *row = rows + (index == NULL ? i : index[i]) * step;
            if (gain != NULL) {
                f32_normalise_row(row, width, tower->facts.epsilon, NULL, normal, NULL);
                row = normal;
            }
            for (long j = 0; j < width; j += LANES) {
                __mmask16 mask = first_lanes(width - j);
                __m512 x = halves != NULL ? widen(_mm256_maskz_loadu_epi16(mask, halves + i * step + j))
                                          : _mm512_maskz_loadu_ps(mask, row + j);
                if (gain != NULL)
                    x = _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, gain + j));
                NAME(put)(desk->bytes + i * step + j, x, mask, grid);
            }
        }
    meet(desk->team);
}

/* The next two as in the other precisions. */
static TARGET void NAME(ask)(Tower *tower, const Desk *desk, const float *rows, const int32_t *index, long count,
                             long first, long number)
{
    const Layer *layer = &tower->layers[number];
    long step = tower->work.qkv_step;
    NAME(Goal) goal = {.step = step};
    if (tower->facts.bf16)
        goal.halves = (uint16_t *)desk->qkv[number % 2] + first * step;
    else
        goal.sums = (float *)desk->qkv[number % 2] + first * step;
    NAME(round)(tower, desk, rows, NULL, index, count, layer->gains[0], &layer->grids[0]);
    NAME(map)(desk, desk->bytes, tower->work.step, count, layer->attention, goal);
}

static TARGET void NAME(layer)(Tower *tower, const Job *job, const Desk *desk, const Part *part, long number)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    const Layer *layer = &tower->layers[number];
    long step = work->step, count = part->rows;
    float *rows = work->rows + part->row * step;
    NAME(Goal) sum = {.sums = rows, .step = step, .added = rows, .added_step = step};
    if (facts->bf16)
        bf16_attend_all(tower, job, desk, part, number);
    else
        f32_attend_all(tower, job, desk, part, number);
    NAME(round)(tower, desk, facts->bf16 ? NULL : desk->factors, facts->bf16 ? desk->factors : NULL, NULL, count, NULL,
                &layer->grids[1]);
    NAME(map)(desk, desk->bytes, step, count, layer->out, sum);
    NAME(round)(tower, desk, rows, NULL, NULL, count, layer->gains[1], &layer->grids[2]);
    NAME(map)(desk, desk->bytes, step, count, layer->expand,
              (NAME(Goal)){.values = desk->wide, .grid = &layer->grids[3], .step = work->wide_step,
                           .activation = (Activation)facts->activation});
    NAME(map)(desk, desk->wide, work->wide_step, count, layer->contract, sum);
    f32_show(tower, job, desk, part, number + 1);
    if (number + 2 < facts->layers) {
        if (job->texts != NULL)
            await(work, work->parts, number);
        NAME(ask)(tower, desk, rows, NULL, count, job->texts == NULL ? 0 : part->row, number + 1);
    }
}

static void NAME(end)(Tower *tower, const Job *job, const Desk *desk, long length)
{
    if (tower->facts.bf16)
        bf16_end(tower, job, desk, length);
    else
        f32_end(tower, job, desk, length);
}

#else

/* One row brought to mean 0 and variance 1, then times gain plus shift if there are any. */
INLINE TARGET void NAME(normalise_row)(const float *row, long width, double epsilon, const float *const norm[2],
                                       float *sums, VALUE *values)
{
    __m512 sum = _mm512_setzero_ps();
    for (long j = 0; j < width; j += LANES)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first_lanes(width - j), row + j));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width), squares = _mm512_setzero_ps();
    for (long j = 0; j < width; j += LANES) {
        __m512 rest = _mm512_maskz_sub_ps(first_lanes(width - j), _mm512_loadu_ps(row + j), mean);
        squares = _mm512_fmadd_ps(rest, rest, squares);
    }
    float variance = _mm512_reduce_add_ps(squares) / (float)width + (float)epsilon;
    if (variance > FLT_MAX) /* squares that overflow are no reason for values of 0 */
        variance = NAN;
    __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps(variance)));
    for (long j = 0; j < width; j += LANES) {
        __mmask16 mask = first_lanes(width - j);
        __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + j), mean), factor);
        if (norm != NULL)
            x = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, norm[0] + j), _mm512_maskz_loadu_ps(mask, norm[1] + j));
        if (sums != NULL)
            _mm512_mask_storeu_ps(sums + j, mask, x);
        else
            NAME(put_end)(values + j, x, width - j);
    }
}

/* Rows to the desk's factors, of the same step, normalised; a step of a team. `index`: which of the rows; NULL for those
 * in order. */
static TARGET void NAME(normalise)(Tower *tower, const Desk *desk, const float *rows, const int32_t *index, long count)
{
    long step = tower->work.step;
    for (long task; (task = take(desk->team)) * STRIP < count;)
        for (long i = task * STRIP; i < count && i < (task + 1) * STRIP; i++)
            NAME(normalise_row)(rows + (index == NULL ? i : index[i]) * step, tower->facts.width, tower->facts.epsilon,
                                NULL, NULL, (VALUE *)desk->factors + i * step);
    meet(desk->team);
}

/* The attention of one head in one sequence.
 *
 * rows: of queries, keys and values, `step` values apart. index: which rows the sequence has; NULL for those in order.
 * owned: for each place the row that is asked for, or -1; NULL for all in order. Of these `asked` rows from `first` on go
 * to the rows of `to`. ends: the place before which each is seen by those behind it; NULL where all see all. */
static TARGET void NAME(attend)(const Facts *facts, const VALUE *rows, long step, long length, const int32_t *index,
                                const int32_t *owned, const int32_t *ends, long head, VALUE *to, long to_step,
                                long first, long asked, char *scratch)
{
    long side = facts->width / facts->heads, words = (side + PER_WORD - 1) / PER_WORD, padded = round_up(length, LANES);
    long wide = round_up(side, LANES), deep = (length + PER_WORD - 1) / PER_WORD;
    uint32_t *keys = (uint32_t *)scratch;                  /* [words, padded] */
    uint32_t *values = keys + round_up(words, LANES) * padded; /* [deep, wide] */
    uint32_t *queries = values + deep * wide;              /* [QUERIES, words] */
    float *scores = (float *)(queries + QUERIES * words);  /* [QUERIES, padded] */
    VALUE *shares = (VALUE *)(scores + QUERIES * padded);  /* [QUERIES, padded] */
    float *means = (float *)(shares + QUERIES * padded);   /* [QUERIES, wide] */
    const VALUE *base = rows + head * side;
#define ROW(place) (base + (index == NULL ? (place) : index[place]) * step)
    for (long i = 0; i < length; i += LANES) {
        for (long k = 0; k < words; k += LANES) {
            const uint32_t *from[LANES];
            for (long l = 0; l < LANES; l++)
                from[l] = i + l < length ? (const uint32_t *)(ROW(i + l) + facts->width) + k : NULL;
            transpose(from, length - i, words - k, keys + k * padded + i, padded);
        }
    }
    for (long i = 0; i < deep; i++) {
        for (long j = 0; j < wide; j += LANES) {
            __mmask16 mask = first_lanes(side - j);
#if PER_WORD == 1
            _mm512_storeu_ps(values + i * wide + j, _mm512_maskz_loadu_ps(mask, ROW(i) + 2 * facts->width + j));
#else
            __m256i even = _mm256_maskz_loadu_epi16(mask, ROW(2 * i) + 2 * facts->width + j), odd = _mm256_setzero_si256();
            if (2 * i + 1 < length)
                odd = _mm256_maskz_loadu_epi16(mask, ROW(2 * i + 1) + 2 * facts->width + j);
            _mm512_storeu_si512(values + i * wide + j, _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                                                                        _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16)));
#endif
        }
    }
    for (long begin = 0; begin < length;) {
        long places[QUERIES], count = 0;
        for (; begin < length && count < QUERIES; begin++)
            if (owned == NULL || (owned[begin] >= first && owned[begin] < first + asked))
                places[count++] = begin;
        if (!count)
            break;
        for (long i = 0; i < count; i++) {
            VALUE *query = (VALUE *)(queries + i * words);
            memcpy(query, ROW(places[i]), side * sizeof *query);
            if (side % PER_WORD) /* the other half of the last word belongs to the next head */
                query[side] = 0;
        }
        long seen = ends == NULL ? length : places[count - 1] + 1, lanes = round_up(seen, LANES);
        NAME(multiply)(queries, words, count, keys, padded, words, seen, scores, padded);
        for (long i = 0; i < count; i++) {
            float *row = scores + i * padded;
            __m512i place = _mm512_set1_epi32((int)places[i]);
            __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
            for (long j = 0; j < lanes; j += LANES) {
                __mmask16 mask = first_lanes(seen - j);
                if (ends != NULL) {
                    mask &= first_lanes(places[i] + 1 - j);
                    mask = _mm512_mask_cmpgt_epi32_mask(mask, _mm512_maskz_loadu_epi32(mask, ends + j), place);
                }
                __m512 x = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), mask, row + j);
                _mm512_storeu_ps(row + j, x);
                most = _mm512_max_ps(most, x);
            }
            most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            for (long j = 0; j < lanes; j += LANES) {
                __m512 x = _mm512_loadu_ps(row + j);
                __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-INFINITY), _CMP_NLE_UQ); /* NaN, too */
                x = _mm512_maskz_mov_ps(some, exponential(_mm512_sub_ps(x, most)));
                sum = _mm512_add_ps(sum, x);
                _mm512_storeu_ps(row + j, x);
            }
            __m512 factor = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
            for (long j = 0; j < lanes; j += LANES)
                NAME(put)(shares + i * padded + j, _mm512_mul_ps(_mm512_loadu_ps(row + j), factor), 0xFFFF);
        }
        NAME(multiply)((const uint32_t *)shares, padded / PER_WORD, count, values, wide, (seen + PER_WORD - 1) / PER_WORD,
                       side, means, wide);
        for (long i = 0; i < count; i++) {
            VALUE *row = to + ((owned == NULL ? places[i] : owned[places[i]]) - first) * to_step;
            for (long j = 0; j < side; j += LANES)
                NAME(put)(row + head * side + j, _mm512_loadu_ps(means + i * wide + j), first_lanes(side - j));
            if (facts->width % PER_WORD && head == facts->heads - 1) /* as in put_end */
                row[facts->width] = 0;
        }
    }
#undef ROW
}

/* Fetch what the attention of one head in one sequence reads: no row foretells where the next one lies. */
INLINE TARGET void NAME(foresee)(const Facts *facts, const VALUE *rows, long step, long length, const int32_t *index,
                                 long head)
{
    const long side = facts->width / facts->heads, line = ALIGNMENT / (long)sizeof *rows;
    for (long i = 0; i < length; i++)
        for (long j = 0; j < 3; j++) {
            const VALUE *from = rows + (index == NULL ? i : index[i]) * step + j * facts->width + head * side;
            for (long k = 0; k < side; k += line)
                _mm_prefetch((const char *)(from + k), _MM_HINT_T1);
        }
}

/* The attention of all heads in all sequences of a part, to the desk's factors; a step of a team. */
static TARGET void NAME(attend_all)(Tower *tower, const Job *job, const Desk *desk, const Part *part, long number)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    const VALUE *qkv = desk->qkv[number % 2];
    const long tasks = part->sequences * facts->heads, step = work->qkv_step;
    if (job->texts == NULL) {
        const long length = part->rows / part->sequences;
        for (long task; (task = take(desk->team)) < tasks;) {
            const long first = task / facts->heads * length, next = task + desk->team->threads;
            if (next < tasks)
                NAME(foresee)(facts, qkv + next / facts->heads * length * step, step, length, NULL, next % facts->heads);
            NAME(attend)(facts, qkv + first * step, step, length, NULL, NULL, NULL, task % facts->heads,
                         (VALUE *)desk->factors + first * work->step, work->step, 0, length, desk->scratch);
        }
    } else {
        const long first = part->sequence * job->length;
        const int32_t *index = (number ? job->groups : work->twins) + first;
        const int32_t *owned = work->owned + first, *ends = job->ends + first;
        for (long task; (task = take(desk->team)) < tasks;) {
            const long at = task / facts->heads * job->length, next = task + desk->team->threads;
            long length = job->length;
            /* What follows the last row that is asked for is not seen, and may be another part's, not there yet. */
            while (length > 0 && (owned[at + length - 1] < part->row || owned[at + length - 1] >= part->row + part->rows))
                length--;
            if (next < tasks)
                NAME(foresee)(facts, qkv, step, job->length, index + next / facts->heads * job->length,
                              next % facts->heads);
            NAME(attend)(facts, qkv, step, length, index + at, owned + at, ends + at, task % facts->heads, desk->factors,
                         work->step, part->row, part->rows, desk->scratch);
        }
    }
    meet(desk->team);
}

/* Copy what a call wants to see of the rows behind a layer, [layers, rows, width]; a step of a team. */
static TARGET void NAME(show)(Tower *tower, const Job *job, const Desk *desk, const Part *part, long layer)
{
    const Work *work = &tower->work;
    long width = tower->facts.width;
    if (job->watched == NULL)
        return;
    for (long task; (task = take(desk->team)) < part->rows;)
        memcpy(job->watched + (layer * work->count + part->row + task) * width,
               work->rows + (part->row + task) * work->step, width * 4);
    meet(desk->team);
}

/* The queries, keys and values of a layer, to row `first` and on of the desk's; a step of a team. `index`: which of the
 * rows; NULL for those in order. */
static TARGET void NAME(ask)(Tower *tower, const Desk *desk, const float *rows, const int32_t *index, long count,
                             long first, long number)
{
    const Work *work = &tower->work;
    VALUE *qkv = desk->qkv[number % 2];
    NAME(normalise)(tower, desk, rows, index, count);
    NAME(map)(desk, desk->factors, work->step, count, tower->layers[number].attention,
              (NAME(Goal)){.values = qkv + first * work->qkv_step, .step = work->qkv_step});
}

/* A layer over the rows of a part, in place, from its attention to what the next one asks for; the last is `end`. */
static TARGET void NAME(layer)(Tower *tower, const Job *job, const Desk *desk, const Part *part, long number)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    const Layer *layer = &tower->layers[number];
    long step = work->step, count = part->rows;
    float *rows = work->rows + part->row * step;
    NAME(Goal) sum = {.sums = rows, .step = step, .added = rows, .added_step = step};
    NAME(attend_all)(tower, job, desk, part, number);
    NAME(map)(desk, desk->factors, step, count, layer->out, sum);
    NAME(normalise)(tower, desk, rows, NULL, count);
    NAME(map)(desk, desk->factors, step, count, layer->expand,
              (NAME(Goal)){.values = desk->wide, .step = work->wide_step, .activation = (Activation)facts->activation});
    NAME(map)(desk, desk->wide, work->wide_step, count, layer->contract, sum);
    NAME(show)(tower, job, desk, part, number + 1);
    if (number + 2 < facts->layers) {
        if (job->texts != NULL) /* others may still read there what the layer before asked */
            await(work, work->parts, number);
        NAME(ask)(tower, desk, rows, NULL, count, job->texts == NULL ? 0 : part->row, number + 1);
    }
}

#if PER_WORD == 1
/* The rows of the first layer, of some texts; a step of a team. */
static TARGET void NAME(embed_tokens)(Tower *tower, const Job *job, const Desk *desk, const Part *part)
{
    const Work *work = &tower->work;
    const long width = tower->facts.width, end = part->row + part->rows;
    for (long task; (task = part->row + take(desk->team) * STRIP) < end;)
        for (long i = task; i < end && i < task + STRIP; i++) {
            const long at = job->places == NULL ? i % tower->length : job->places[i];
            for (long j = 0; j < width; j += LANES) {
                __mmask16 mask = first_lanes(width - j);
                __m512 token = _mm512_maskz_loadu_ps(mask, tower->tokens + job->ids[i] * width + j);
                __m512 place = _mm512_maskz_loadu_ps(mask, tower->positions + at * width + j);
                _mm512_storeu_ps(work->rows + i * work->step + j, _mm512_add_ps(token, place));
            }
        }
    meet(desk->team);
}

/* The attention of one row of a sequence, through the last layer's weights of keys and values: `look`, [heads, full],
 * is what each head looks for, and becomes the mean of the rows, normalised, that it finds. index: which rows the
 * sequence has; NULL for those in order. */
static TARGET void NAME(gaze)(const Facts *facts, const float *rows, long step, const int32_t *index, long length,
                              float *look, char *scratch)
{
    long width = facts->width, heads = facts->heads, lanes = round_up(heads, LANES), padded = round_up(length, LANES);
    long full = round_up(width, LANES);
    uint32_t *turned = (uint32_t *)scratch;              /* [full, lanes] */
    float *scores = (float *)(turned + full * lanes);   /* [padded, lanes] */
    uint32_t *shares = (uint32_t *)(scores + padded * lanes); /* [lanes, padded] */
    float *normal = (float *)(shares + lanes * padded);  /* [length, full] */
    for (long i = 0; i < length; i++)
        NAME(normalise_row)(rows + (index == NULL ? i : index[i]) * step, width, facts->epsilon, NULL, normal + i * full,
                            NULL);
    for (long i = 0; i < heads; i += LANES)
        for (long k = 0; k < width; k += LANES) {
            const uint32_t *from[LANES];
            for (long l = 0; l < LANES; l++)
                from[l] = (const uint32_t *)look + (i + l < heads ? i + l : 0) * full + k;
            transpose(from, heads - i, width - k, turned + k * lanes + i, lanes);
        }
    NAME(multiply)((const uint32_t *)normal, full, length, turned, lanes, width, heads, scores, lanes);
    for (long i = 0; i < lanes; i += LANES) {
        __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
        for (long j = 0; j < length; j++)
            most = _mm512_max_ps(most, _mm512_loadu_ps(scores + j * lanes + i));
        for (long j = 0; j < length; j++) {
            __m512 x = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j * lanes + i), most));
            sum = _mm512_add_ps(sum, x);
            _mm512_storeu_ps(scores + j * lanes + i, x);
        }
        for (long j = 0; j < length; j++)
            _mm512_storeu_ps(scores + j * lanes + i, _mm512_div_ps(_mm512_loadu_ps(scores + j * lanes + i), sum));
        for (long j = 0; j < length; j += LANES) {
            const uint32_t *from[LANES];
            for (long l = 0; l < LANES; l++)
                from[l] = (const uint32_t *)scores + (j + l < length ? j + l : 0) * lanes + i;
            transpose(from, length - j, LANES, shares + i * padded + j, padded);
        }
    }
    NAME(multiply)(shares, padded, heads, (const uint32_t *)normal, full, length, width, look, full);
}
#endif

/* What the row of each sequence that is pooled looks for, by heads, to `look`: through the last layer's queries and keys. */
static TARGET void NAME(look)(Tower *tower, const Job *job, const Desk *desk, long length)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    long step = work->step, width = facts->width, side = width / facts->heads, count = job->count;
    long full = round_up(width, LANES);
    VALUE *factors = desk->factors;
    for (long task; (task = take(desk->team)) < count;) {
        long row = task * length; /* of images the first, of texts that come whole the last */
        if (job->texts != NULL)
            row = job->texts[task * job->longest + job->pooled[task]];
        else if (job->ids != NULL)
            row += length - 1;
        memcpy(work->pooled + task * step, work->rows + row * step, width * 4);
        NAME(normalise_row)(work->rows + row * step, width, facts->epsilon, NULL, NULL, factors + task * step);
    }
    meet(desk->team);
    NAME(map)(desk, factors, step, count, tower->layers[facts->layers - 1].attention,
              (NAME(Goal)){.sums = work->query, .step = step});
    for (long i = 0; i < facts->heads; i++) {
        Map keys = tower->keys;
        keys.panels = (const float *)keys.panels + i * side * full;
        f32_map(desk, work->query + i * side, step, count, keys,
                (f32_Goal){.sums = work->look + i * full, .step = facts->heads * full});
    }
}

/* The last layer for one row of each sequence, and the projection. Its attention is in f32 in every precision. */
static TARGET void NAME(end)(Tower *tower, const Job *job, const Desk *desk, long length)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    const Layer *layer = &tower->layers[facts->layers - 1];
    long step = work->step, width = facts->width, heads = facts->heads, side = width / heads, count = job->count;
    long columns = round_up(side, LANES), full = round_up(width, LANES), longest = job->longest;
    VALUE *factors = desk->factors, *wide = desk->wide;
    if (!facts->attention_pool)
        NAME(look)(tower, job, desk, length);
    for (long task; (task = take(desk->team)) < count;) {
        const int32_t *text = job->texts == NULL ? NULL : job->texts + task * longest;
        float *look = work->look + task * heads * full;
        if (facts->attention_pool) { /* the same for all, and nothing to add to */
            memcpy(look, tower->look, heads * full * 4);
            memset(work->pooled + task * step, 0, width * 4);
        }
        f32_gaze(facts, work->rows + (text == NULL ? task * length * step : 0), step, text,
                 text == NULL ? length : job->pooled[task] + 1, look, desk->scratch);
    }
    meet(desk->team);
    for (long i = 0; i < heads; i++) {
        Map values = tower->values;
        values.panels = (const float *)values.panels + i * width * columns;
        f32_map(desk, work->look + i * full, heads * full, count, values,
                (f32_Goal){.sums = work->query + i * side, .step = step});
    }
    for (long task; (task = take(desk->team)) < count;)
        for (long j = 0; j < width; j += LANES)
            NAME(put_end)(factors + task * step + j, _mm512_loadu_ps(work->query + task * step + j), width - j);
    meet(desk->team);
    NAME(Goal) sum = {.sums = work->pooled, .step = step, .added = work->pooled, .added_step = step};
    NAME(map)(desk, factors, step, count, layer->out, sum);
    NAME(normalise)(tower, desk, work->pooled, NULL, count);
    NAME(map)(desk, factors, step, count, layer->expand,
              (NAME(Goal)){.values = wide, .step = work->wide_step, .activation = (Activation)facts->activation});
    NAME(map)(desk, wide, work->wide_step, count, layer->contract, sum);
    for (long task; (task = take(desk->team)) < count;) {
        float *row = work->pooled + task * step;
        if (job->watched != NULL)
            memcpy(job->watched + (facts->layers * work->count + task) * width, row, width * 4);
        if (!facts->attention_pool) /* which has its normalisation before it */
            f32_normalise_row(row, width, facts->epsilon, tower->last_norm, row, NULL);
        if (!facts->projected)
            memcpy(job->out + task * width, row, width * 4);
    }
    meet(desk->team);
    if (facts->projected)
        f32_map(desk, work->pooled, step, count, tower->projection, (f32_Goal){.sums = job->out, .step = facts->dim});
}

#endif

/* The rows of the first layer, of some images; a step of a team. */
static TARGET void NAME(embed_patches)(Tower *tower, const Job *job, const Desk *desk, const Part *part)
{
    const Facts *facts = &tower->facts;
    const Work *work = &tower->work;
    long grid = facts->grid, side = facts->side, patches = grid * grid, length = tower->length, width = facts->width;
    long step = work->step, line = side * 3, count = part->sequences;
    VALUE *wide = desk->wide;
    float *rows = work->rows + part->row * step, *embedded = work->embedded + part->row * step;
    for (long task; (task = take(desk->team)) < count * grid;) {
        const uint8_t *from = job->pixels;
        from += ((part->sequence + task / grid) * facts->size + task % grid * side) * facts->size * 3;
        for (long x = 0; x < grid; x++) {
            VALUE *to = wide + (task * grid + x) * work->wide_step;
            for (long y = 0; y < side; y++)
                for (long j = 0; j < line; j += LANES) {
                    __mmask16 mask = first_lanes(line - j);
                    __m128i bytes = _mm_maskz_loadu_epi8(mask, from + (y * facts->size + x * side) * 3 + j);
#if PER_WORD == 4 /* the centre is the zero point */
                    _mm_mask_storeu_epi8(to + y * line + j, mask, bytes);
#else
                    __m512 pixels = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
                    pixels = _mm512_sub_ps(pixels, _mm512_set1_ps((float)facts->centre));
                    NAME(put)(to + y * line + j, pixels, mask);
#endif
                }
            if (side * line % PER_WORD) /* as in put_end */
                to[side * line] = 0;
        }
    }
    meet(desk->team);
    NAME(map)(desk, wide, work->wide_step, count * patches, tower->patches,
              (NAME(Goal)){.sums = embedded, .step = step});
    for (long task; (task = take(desk->team)) * STRIP < part->rows;)
        for (long i = task * STRIP; i < part->rows && i < (task + 1) * STRIP; i++) {
            long image = i / length, patch = i % length - facts->cls_token;
            const float *from = patch < 0 ? tower->class_row : embedded + (image * patches + patch) * step;
            for (long j = 0; j < width; j += LANES) {
                __mmask16 mask = first_lanes(width - j);
                __m512 x = _mm512_maskz_loadu_ps(mask, from + j);
                if (patch >= 0)
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, tower->positions + patch * width + j));
                _mm512_storeu_ps(rows + i * step + j, x);
            }
            if (facts->input_norm)
                f32_normalise_row(rows + i * step, width, facts->epsilon, tower->first_norm, rows + i * step, NULL);
        }
    meet(desk->team);
}

/* The layers but the last over some sequences of one length. */
static TARGET void NAME(see)(Tower *tower, const Job *job, const Desk *desk, const Part *part)
{
    const Facts *facts = &tower->facts;
    const float *rows = tower->work.rows + part->row * tower->work.step;
    if (facts->size)
        NAME(embed_patches)(tower, job, desk, part);
    else
        f32_embed_tokens(tower, job, desk, part);
    f32_show(tower, job, desk, part, 0);
    if (facts->layers > 1)
        NAME(ask)(tower, desk, rows, NULL, part->rows, 0, 0);
    for (long i = 0; i + 1 < facts->layers; i++)
        NAME(layer)(tower, job, desk, part, i);
}

static TARGET void NAME(run_sequences)(Tower *tower, const Job *job, int me)
{
    const Work *work = &tower->work;
    const Desk *all = &tower->desks[2 * me], *alone = all + 1;
    long length = tower->length, own = work->parts * work->images;
    for (long task; (task = take(all->team)) < work->parts;) {
        long first = task * work->images;
        Part part = {first * length, work->images * length, first, work->images};
        NAME(see)(tower, job, alone, &part);
    }
    meet(all->team);
    if (own < job->count) {
        Part rest = {own * length, (job->count - own) * length, own, job->count - own};
        NAME(see)(tower, job, all, &rest);
    }
    NAME(end)(tower, job, all, length);
}

static TARGET void NAME(run_texts)(Tower *tower, const Job *job, int me)
{
    const Work *work = &tower->work;
    const Desk *all = &tower->desks[2 * me], *alone = all + 1;
    const Part batch = {0, job->rows, 0, job->group_count};
    f32_embed_tokens(tower, job, all, &batch);
    f32_show(tower, job, all, &batch, 0);
    /* Before the first attention equal tokens in equal places are equal. */
    if (tower->facts.layers > 1)
        NAME(ask)(tower, all, work->rows, work->firsts, work->distinct, 0, 0);
    const long layers = tower->facts.layers - 1;
    /* A part of a layer needs that those up to it are through the layer before. */
    for (long task; (task = take(all->team)) < work->parts * layers;) {
        long number = task / work->parts, part = task % work->parts;
        await(work, part + 1, number);
        NAME(layer)(tower, job, alone, &work->shares[part], number);
        atomic_store_explicit(&work->passed[part], number + 1, memory_order_release);
    }
    meet(all->team);
    if (!work->parts)
        for (long i = 0; i < layers; i++)
            NAME(layer)(tower, job, all, &batch, i);
    NAME(end)(tower, job, all, job->length);
}
