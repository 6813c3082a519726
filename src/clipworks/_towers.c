/* CLIP's two towers on processors with AVX-512: in f32, in bf16 with f32 sums, and in int8 on static grids.
 *
 * A tower is some hundred steps over rows of numbers. Each thread takes some of the rows, a part, through a layer alone;
 * what is too little for that, and the ends of a tower, a team of threads runs together: a step is cut into tasks,
 * whoever is free takes the next one, and all meet before the next step. The steps themselves are in
 * _towers_steps.h, which is compiled once for each precision. Weights come packed for the products' inner loop, from
 * one buffer that clipworks.runtimes.native makes, so nothing is copied when a tower is opened.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef COMPILED
#if defined(__x86_64__) && defined(__GNUC__) && !defined(_WIN32) && (defined(__clang__) || __GNUC__ >= 10)
#define COMPILED 1
#else
#define COMPILED 0
#endif
#endif

#if COMPILED

#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#define LANES 16            /* f32 values of a vector */
#define PANEL 48            /* columns of a packed matrix that lie together: three vectors */
#define STRIP 8             /* rows that the inner loop takes at once: 8 x 3 sums fill the registers */
#define BLOCK 208           /* rows of a task: with a panel they stay in a core's second-level cache */
#define DEPTH 1024          /* 32-bit words of a row, at most, that are multiplied before the next part of a panel */
#define LEAST 40            /* rows that each thread has at least where threads work alone */
#define OWN 104             /* rows that a thread takes through a layer alone, so that they stay in its core's cache */
#define QUERIES 64          /* rows of an attention's scores that are kept at once */
#define GAP 16              /* words between rows: powers of two would share one set of the cache */
#define ALIGNMENT 64
#define SPINS 4000          /* looks at another thread's progress before the core is offered to others */

#define INLINE static inline __attribute__((always_inline))
#define BASE_TARGET "avx512f,avx512bw,avx512vl,avx512dq"
#define VECTORS __attribute__((target(BASE_TARGET)))
#define UNROLL _Pragma("GCC unroll 16")

/* Whole sums. Of __m512i, whose numbers are of 64 bits, gcc keeps two copies in the inner loop, and many in memory. */
typedef int32_t Words __attribute__((vector_size(64)));

typedef enum { LINEAR, QUICK, GELU } Activation;

/* What becomes of a product's sums; the last three are in the order of the activations. */
typedef enum { KEPT, SUMS, PLAIN_VALUES, QUICK_VALUES, GELU_VALUES } Ending;

typedef struct {
    const void *panels;
    const float *bias;   /* or NULL */
    const float *scales; /* of int8: what a sum of each column is worth */
    long inputs, outputs;
} Map;

/* How values become bytes: times inverse, to the nearest, plus zero. */
typedef struct {
    float inverse;
    int zero;
} Grid;

typedef struct {
    Map attention, out, expand, contract; /* attention: queries, keys, values; of the last layer queries alone */
    const float *gains[2];                /* of int8: of the normalisations before attention and expand */
    Grid grids[4];                        /* of int8: of what goes into the four maps */
} Layer;

typedef struct {
    long size, grid, side; /* of a picture: pixels, patches, pixels of a patch; 0 for texts */
    long width, heads, dim, layers, vocabulary, context;
    double centre, epsilon;
    int quick, bf16, int8; /* bf16: of int8 the attention and the last layer are */
} Facts;

typedef struct {
    _Atomic long next; /* task of the step */
    atomic_int arrived;
    atomic_uint phase;
    int threads;
} Team;

/* One call. Of texts the arrays are those of clipworks.runtimes.packing, and the place that is pooled of each. */
typedef struct {
    const uint8_t *pixels;
    const int32_t *ids, *places, *groups, *ends, *back, *texts, *pooled;
    long count, rows, group_count, length, longest;
    float *out, *watched; /* watched: the rows behind each layer and the pooled ones behind the last, or NULL */
} Job;

/* Rows that go through a layer together, and the sequences that they are of: pictures or groups. */
typedef struct {
    long row, rows, sequence, sequences;
} Part;

/* Memory that a call works in. Rows lie `step` values apart. */
typedef struct {
    long step, wide_step, qkv_step, count; /* count: rows in all */
    long parts, pictures;  /* parts that threads take alone, or 0; of pictures so many in each, and all share the rest */
    Part *shares;          /* the parts of texts */
    _Atomic long *passed;  /* how many layers each of them is through */
    float *rows;           /* [count, width] */
    float *embedded;       /* [count, width]: of pictures the patches */
    float *pooled, *query; /* [sequences, width] */
    float *look;           /* [sequences, heads, full]: width filled up to whole vectors */
    int32_t *owned;        /* [groups, length]: the row that each place is the one to compute, or -1 */
    long distinct;         /* tokens in their places that differ */
    int32_t *firsts;       /* [distinct]: the first row of each */
    int32_t *twins;        /* [groups, length]: which of them each place has */
} Work;

/* Whom a thread works with, and in what memory. */
typedef struct {
    Team *team;
    char *scratch;
    void *factors, *wide; /* of the rows of a part */
    uint8_t *bytes;       /* of int8: the factors of its maps */
    void *qkv[2];         /* queries, keys and values of layers of even and of odd number: of texts all rows, the same at
                             each desk; of pictures one place for both, for the rows of a part */
} Desk;

typedef struct Tower {
    Facts facts;
    Py_buffer body;
    Map patches, keys, values, projection; /* keys and values: of the last layer's first head */
    const float *tokens, *positions, *class_row, *first_norm[2], *last_norm[2];
    Layer *layers;

    Team team;
    pthread_t *workers;
    int started;
    pid_t process; /* a fork has the memory, but not the workers */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    long generation;
    int stop;
    void (*steps)(struct Tower *, const Job *, int);
    const Job *job;

    Work work;
    char *memory;
    size_t held;
    Desk *desks; /* two of each thread: with all others, and alone */
    Team *alone;
} Tower;

static size_t round_up(size_t number, size_t step)
{
    return (number + step - 1) / step * step;
}

/* The tasks of a step. */
INLINE long take(Team *team)
{
    return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
}

/* Between two looks at what another thread does. */
INLINE void idle(int looks)
{
    if (looks < SPINS)
        _mm_pause();
    else
        sched_yield();
}

/* All threads meet; what was written before is seen by all behind. */
static void meet(Team *team)
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
        idle(looks);
}

/* Wait until the first parts of texts are through so many layers; there may be none. */
static void await(const Work *work, long parts, long layers)
{
    for (long i = 0; i < parts; i++)
        for (int looks = 0; atomic_load_explicit(&work->passed[i], memory_order_acquire) < layers; looks++)
            idle(looks);
}

INLINE VECTORS __mmask16 first_lanes(long count)
{
    return count >= LANES ? 0xFFFF : (__mmask16)((1u << (count < 0 ? 0 : count)) - 1);
}

/* e to the x within 1e-7 of itself: 2 to the nearest whole power, and a polynomial for the rest. */
INLINE VECTORS __m512 exponential(__m512 x)
{
    __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693145752f), x);
    rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(1.42860677e-6f), rest);
    __m512 sum = _mm512_set1_ps(1.0f / 5040);
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f / 720));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f / 120));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f / 24));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f / 6));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.5f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, power);
}

INLINE VECTORS __m512 activate(__m512 x, Activation kind)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    if (kind == QUICK) { /* x times the logistic function of 1.702 x */
        __m512 steep = _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(-1.702f)), _mm512_set1_ps(-88.0f));
        return _mm512_div_ps(x, _mm512_add_ps(one, exponential(_mm512_min_ps(steep, _mm512_set1_ps(88.0f)))));
    }
    /* x times the normal distribution: erfc(z) is e to the -z*z times a polynomial in 1 / (1 + z / 2). */
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.707106781f));
    z = _mm512_min_ps(z, _mm512_set1_ps(9.0f));
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.5f), one));
    __m512 sum = _mm512_set1_ps(-0.0537854806f);
    static const float terms[] = {0.257178277f, -0.426055998f, 0.20120655f, 0.033160273f,
                                  0.172938466f, 0.252543986f, 0.280537874f, 0.282285064f, -9.08181391e-06f};
    for (int i = 0; i < (int)(sizeof terms / sizeof *terms); i++)
        sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(terms[i]));
    __m512 tail = _mm512_mul_ps(exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))), sum);
    __m512 half = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), tail); /* x * erfc(|z|) / 2 */
    __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(half, positive, x, half);
}

/* 2 to the x within 8e-5 of itself, for factors that are rounded to 8 bits. */
INLINE VECTORS __m512 raise_two(__m512 x)
{
    __m512 power = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT), rest = _mm512_sub_ps(x, power);
    __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(0.0551718559f), rest, _mm512_set1_ps(0.242611176f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.693260962f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.999928095f)), power);
}

/* As activate, within 4e-4 of itself. */
INLINE VECTORS __m512 activate_roughly(__m512 x, Activation kind)
{
    const __m512 one = _mm512_set1_ps(1.0f), lowest = _mm512_set1_ps(-126.0f);
    if (kind == QUICK) {
        __m512 steep = _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(-2.45546696f)), lowest);
        steep = raise_two(_mm512_min_ps(steep, _mm512_set1_ps(126.0f)));
        return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(one, steep)));
    }
    __m512 t = _mm512_rcp14_ps(_mm512_fmadd_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.487903679f), one));
    __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(-0.123618634f), t, _mm512_set1_ps(0.258553093f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(0.168209456f));
    sum = _mm512_mul_ps(_mm512_fmadd_ps(sum, t, _mm512_set1_ps(0.196822856f)), t); /* half of it already */
    __m512 power = _mm512_max_ps(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.72134752f)), lowest);
    __m512 half = _mm512_mul_ps(x, _mm512_mul_ps(raise_two(power), sum));
    __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(half, positive, x, half);
}

/* Turn 16 rows of 16 words about. Rows from `rows` on and words from `words` on count as zero. */
INLINE VECTORS void transpose(const uint32_t *const from[LANES], long rows, long words, uint32_t *to, long step)
{
    __m512i a[LANES], b[LANES];
    __mmask16 mask = first_lanes(words);
    UNROLL for (int i = 0; i < LANES; i++)
        a[i] = i < rows ? _mm512_maskz_loadu_epi32(mask, from[i]) : _mm512_setzero_si512();
    UNROLL for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    /* a[4 g + j] holds, in each quarter q, word 4 q + j of rows 4 g to 4 g + 3. */
    UNROLL for (int j = 0; j < 4; j++) {
        __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x44), high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xEE);
        __m512i low2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x44);
        __m512i high2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xEE);
        b[j] = _mm512_shuffle_i32x4(low, low2, 0x88);
        b[4 + j] = _mm512_shuffle_i32x4(low, low2, 0xDD);
        b[8 + j] = _mm512_shuffle_i32x4(high, high2, 0x88);
        b[12 + j] = _mm512_shuffle_i32x4(high, high2, 0xDD);
    }
    UNROLL for (int i = 0; i < LANES; i++)
        if (i < words)
            _mm512_storeu_si512(to + i * step, b[i]);
}

/* bf16 and back, without the instructions for it: the nearest, of two equally near ones the even one. */
INLINE VECTORS __m256i halve(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), even);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

INLINE VECTORS __m512 widen(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

#define NAME(x) f32_##x
#define VALUE float
#define PER_WORD 1
#define TOTAL __m512
#define MULTIPLY(sums, a, b) _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sums)
#define TARGET VECTORS
#include "_towers_steps.h"
#undef NAME
#undef VALUE
#undef PER_WORD
#undef TOTAL
#undef MULTIPLY
#undef TARGET

#define NAME(x) bf16_##x
#define VALUE uint16_t
#define PER_WORD 2
#define TOTAL __m512
#define MULTIPLY(sums, a, b) _mm512_dpbf16_ps(sums, (__m512bh)(a), (__m512bh)(b))
#define TARGET __attribute__((target(BASE_TARGET ",avx512bf16")))
#include "_towers_steps.h"
#undef NAME
#undef VALUE
#undef PER_WORD
#undef TOTAL
#undef MULTIPLY
#undef TARGET

#define NAME(x) int8_##x
#define VALUE uint8_t
#define PER_WORD 4
#define TOTAL Words
#define MULTIPLY(sums, a, b) (Words)_mm512_dpbusd_epi32((__m512i)(sums), a, b)
#define TARGET __attribute__((target(BASE_TARGET ",avx512vnni")))
#include "_towers_steps.h"

/* The team. */

typedef struct {
    Tower *tower;
    int me;
} Place;

static void *work_on(void *argument)
{
    Tower *tower = ((Place *)argument)->tower;
    int me = ((Place *)argument)->me;
    free(argument);
    for (long seen = 0;;) {
        pthread_mutex_lock(&tower->lock);
        while (tower->generation == seen && !tower->stop)
            pthread_cond_wait(&tower->wake, &tower->lock);
        seen = tower->generation;
        int stop = tower->stop;
        pthread_mutex_unlock(&tower->lock);
        if (stop)
            return NULL;
        tower->steps(tower, tower->job, me); /* its last step ends with a meeting */
    }
}

/* Start all workers; 0 where the system gives too few threads. */
static int enlist(Tower *tower)
{
    pthread_mutex_init(&tower->lock, NULL);
    pthread_cond_init(&tower->wake, NULL);
    atomic_store(&tower->team.next, 0);
    atomic_store(&tower->team.arrived, 0);
    for (int i = 0; i < tower->team.threads; i++)
        atomic_store(&tower->alone[i].next, 0);
    tower->generation = 0;
    tower->started = 0;
    tower->process = getpid();
    while (tower->started < tower->team.threads - 1) {
        Place *place = malloc(sizeof *place);
        if (place == NULL)
            return 0;
        *place = (Place){tower, tower->started + 1};
        if (pthread_create(&tower->workers[tower->started], NULL, work_on, place)) {
            free(place);
            return 0;
        }
        tower->started++;
    }
    return 1;
}

static void dismiss(Tower *tower)
{
    if (tower->process != getpid())
        return;
    pthread_mutex_lock(&tower->lock);
    tower->stop = 1;
    pthread_cond_broadcast(&tower->wake);
    pthread_mutex_unlock(&tower->lock);
    for (int i = 0; i < tower->started; i++)
        pthread_join(tower->workers[i], NULL);
    pthread_mutex_destroy(&tower->lock);
    pthread_cond_destroy(&tower->wake);
}

static void run(Tower *tower, const Job *job)
{
    if (tower->team.threads > 1) {
        pthread_mutex_lock(&tower->lock);
        tower->job = job;
        tower->generation++;
        pthread_cond_broadcast(&tower->wake);
        pthread_mutex_unlock(&tower->lock);
    }
    tower->steps(tower, job, 0);
}

/* How many parts of how many pictures threads take through the layers alone; the rest is for all together. */
static void share_pictures(Work *work, long pictures, long length, long threads)
{
    long most = OWN / length > 1 ? OWN / length : 1, each = pictures / threads < most ? pictures / threads : most;
    work->pictures = each;
    work->parts = each ? pictures / each / threads * threads : 0;
}

/* The row that a part of texts begins with: all have equally many or, if `whole`, the whole groups that come nearest. */
static long begin_part(const Job *job, long parts, long part, int whole)
{
    long row = job->rows * part / parts, down = row, up = row;
    if (!whole || part == 0 || part == parts)
        return row;
    while (down > 0 && job->back[down - 1] / job->length == job->back[down] / job->length)
        down--;
    while (up < job->rows && job->back[up - 1] / job->length == job->back[up] / job->length)
        up++;
    return row - down < up - row ? down : up;
}

/* The parts of texts that threads take alone, and the groups that their rows are in. */
static void share_rows(Work *work, const Job *job, int whole)
{
    for (long i = 0, begin = 0, end; i < work->parts; i++, begin = end) {
        end = begin_part(job, work->parts, i + 1, whole);
        long group = job->back[begin] / job->length;
        atomic_store(&work->passed[i], 0);
        work->shares[i] = (Part){begin, end - begin, group, job->back[end - 1] / job->length + 1 - group};
    }
}

/* Which row each place of the groups is the one to compute, and which tokens in their places are equal. `table` has room
 * for `room` numbers, a power of two; `kinds` for each row's. */
static void pair_rows(Work *work, const Job *job, const Facts *facts, int32_t *table, size_t room, int32_t *kinds)
{
    long slots = job->group_count * job->length;
    for (long i = 0; i < slots; i++)
        work->owned[i] = -1;
    for (size_t i = 0; i < room; i++)
        table[i] = -1;
    work->distinct = 0;
    for (long i = 0; i < job->rows; i++) {
        work->owned[job->back[i]] = (int32_t)i;
        size_t at = ((size_t)job->ids[i] * (size_t)facts->context + (size_t)job->places[i]) * 0x9E3779B1u & (room - 1);
        for (; table[at] >= 0; at = (at + 1) & (room - 1)) {
            long other = work->firsts[table[at]];
            if (job->ids[other] == job->ids[i] && job->places[other] == job->places[i])
                break;
        }
        if (table[at] < 0) {
            work->firsts[work->distinct] = (int32_t)i;
            table[at] = (int32_t)work->distinct++;
        }
        kinds[i] = table[at];
    }
    for (long i = 0; i < slots; i++)
        work->twins[i] = kinds[job->groups[i]];
}

/* Memory for a call, kept from the one before if it is large enough, and who does what; 0 where there is not enough. */
static int reserve(Tower *tower, const Job *job, long sequences, long length, long rows)
{
    const Facts *facts = &tower->facts;
    Work *work = &tower->work;
    long threads = tower->team.threads, wide = facts->side * facts->side * 3, expanded = tower->layers->expand.outputs;
    size_t width = (size_t)facts->width, heads = (size_t)facts->heads, value = facts->bf16 ? 2 : 4;
    size_t side = width / heads, padded = round_up((size_t)length, LANES), lanes = round_up(heads, LANES);
    size_t full = round_up(width, LANES), room = 2;
    wide = wide < expanded ? expanded : wide;
    work->step = (long)full + GAP * 2;
    work->wide_step = (long)round_up((size_t)wide, LANES) + GAP * 2;
    work->qkv_step = (long)round_up(3 * width, LANES) + GAP * 2;
    work->count = rows;
    /* Rows that a desk has room for: one that a thread has alone, and that of all, which is all those together. */
    long own = 0, shared = sequences;
    int whole = 0;
    if (facts->size) {
        share_pictures(work, sequences, length, threads);
        long rest = (sequences - work->parts * work->pictures) * length;
        own = work->pictures * length;
        shared = shared < rest ? rest : shared;
    } else {
        work->parts = rows < threads * LEAST ? 0 : (rows + threads * OWN - 1) / (threads * OWN) * threads;
        /* A group in two parts is read twice, but a few parts should be of equal length. */
        whole = work->parts >= 4 * threads && job->length <= OWN / 2;
        own = work->parts ? (rows + work->parts - 1) / work->parts + whole * job->length : 0;
        shared = shared < rows ? rows : shared;
        while (room < 2 * (size_t)rows)
            room *= 2;
    }
    shared = shared < own * threads ? own * threads : shared;
    size_t step = (size_t)work->step, count = (size_t)rows, ends = (size_t)sequences, desk = (size_t)shared;
    size_t slots = (size_t)(job->group_count * job->length), qkv = (size_t)work->qkv_step * value, texts = !facts->size;
    enum { ROWS, EMBEDDED, POOLED, QUERY, LOOK, FACTORS, WIDE, BYTES, EVEN, ODD, SHARES, PASSED, OWNED, TWINS, FIRSTS,
           KINDS, TABLE, PARTS };
    size_t sizes[PARTS] = {
        [ROWS] = count * step * 4,
        [EMBEDDED] = texts ? 0 : count * step * 4,
        [POOLED] = ends * step * 4,
        [QUERY] = ends * step * 4,
        [LOOK] = ends * heads * full * 4,
        [FACTORS] = desk * step * value,
        [WIDE] = desk * (size_t)work->wide_step * value,
        [BYTES] = facts->int8 ? desk * step : 0,
        [EVEN] = (texts ? count : desk) * qkv,
        [ODD] = texts * count * qkv,
        [SHARES] = texts * (size_t)work->parts * sizeof(Part),
        [PASSED] = texts * (size_t)work->parts * sizeof *work->passed,
        [OWNED] = slots * 4,
        [TWINS] = slots * 4,
        [FIRSTS] = texts * count * 4,
        [KINDS] = texts * count * 4,
        [TABLE] = texts * room * 4,
    };
    size_t attention = 4 * (round_up(side, LANES) * padded + (padded + 1) * round_up(side, LANES) +
                            QUERIES * (side + 2 * padded + round_up(side, LANES)));
    size_t gaze = 4 * (full * lanes + 2 * padded * lanes + (size_t)length * full);
    size_t scratch = BLOCK * PANEL * 4;
    scratch = round_up((scratch < attention ? attention : scratch) + ALIGNMENT, ALIGNMENT);
    scratch = scratch < gaze ? round_up(gaze, ALIGNMENT) : scratch;
    size_t total = ALIGNMENT * 4 + scratch * (size_t)threads;
    for (int i = 0; i < PARTS; i++)
        total += round_up(sizes[i] + ALIGNMENT, ALIGNMENT);
    if (total > tower->held) {
        free(tower->memory);
        tower->held = 0;
        if (posix_memalign((void **)&tower->memory, ALIGNMENT, total)) {
            tower->memory = NULL;
            return 0;
        }
        tower->held = total;
    }
    char *places[PARTS], *at = tower->memory;
    for (int i = 0; i < PARTS; i++) {
        places[i] = at;
        at += round_up(sizes[i] + ALIGNMENT, ALIGNMENT);
    }
    work->rows = (float *)places[ROWS];
    work->embedded = (float *)places[EMBEDDED];
    work->pooled = (float *)places[POOLED];
    work->query = (float *)places[QUERY];
    work->look = (float *)places[LOOK];
    work->shares = (Part *)places[SHARES];
    work->passed = (_Atomic long *)places[PASSED];
    work->owned = (int32_t *)places[OWNED];
    work->twins = (int32_t *)places[TWINS];
    work->firsts = (int32_t *)places[FIRSTS];
    if (!facts->size) {
        pair_rows(work, job, facts, (int32_t *)places[TABLE], room, (int32_t *)places[KINDS]);
        share_rows(work, job, whole);
    }
    for (long i = 0; i < threads; i++, at += scratch)
        for (long j = 0; j < 2; j++) {
            size_t first = j ? (size_t)(i * own) : 0;
            tower->desks[2 * i + j] = (Desk){
                .team = j ? &tower->alone[i] : &tower->team,
                .scratch = at,
                .factors = places[FACTORS] + first * step * value,
                .wide = places[WIDE] + first * (size_t)work->wide_step * value,
                .bytes = (uint8_t *)places[BYTES] + first * step,
                .qkv = {places[EVEN] + (texts ? 0 : first * qkv), texts ? places[ODD] : places[EVEN] + first * qkv},
            };
        }
    return 1;
}

/* Python's side. */

#define CAPSULE "clipworks._towers.Tower"

static void free_tower(Tower *tower)
{
    dismiss(tower);
    PyBuffer_Release(&tower->body);
    free(tower->layers);
    free(tower->workers);
    free(tower->desks);
    free(tower->alone);
    free(tower->memory);
    free(tower);
}

static void drop(PyObject *capsule)
{
    free_tower(PyCapsule_GetPointer(capsule, CAPSULE));
}

/* The parts of a body in their order; each begins at a multiple of ALIGNMENT. */
typedef struct {
    const char *at, *end;
    int short_of;
} Reader;

static const void *read_part(Reader *reader, size_t bytes)
{
    const char *part = reader->at;
    bytes = round_up(bytes, ALIGNMENT);
    if ((size_t)(reader->end - part) < bytes) {
        reader->short_of = 1;
        return part;
    }
    reader->at += bytes;
    return part;
}

static Map read_map(Reader *reader, long inputs, long outputs, int per_word, int bias)
{
    size_t words = ((size_t)inputs + per_word - 1) / per_word;
    Map map = {.inputs = inputs, .outputs = outputs};
    map.panels = read_part(reader, words * round_up((size_t)outputs, LANES) * 4);
    if (per_word == 4)
        map.scales = read_part(reader, (size_t)outputs * 4);
    if (bias || per_word == 4) /* of int8 it holds what the zero point of the factors adds, too */
        map.bias = read_part(reader, (size_t)outputs * 4);
    return map;
}

static int read_body(Tower *tower, long expanded)
{
    const Facts *facts = &tower->facts;
    Reader reader = {.at = tower->body.buf, .end = (const char *)tower->body.buf + tower->body.len};
    long width = facts->width, side = width / facts->heads;
    int per_word = facts->bf16 ? 2 : 1, inner = facts->int8 ? 4 : per_word;
    if (facts->size) {
        tower->patches = read_map(&reader, facts->side * facts->side * 3, width, inner, 0);
        tower->positions = read_part(&reader, (size_t)(facts->grid * facts->grid * width) * 4);
        tower->class_row = read_part(&reader, (size_t)width * 4);
        tower->first_norm[0] = read_part(&reader, (size_t)width * 4);
        tower->first_norm[1] = read_part(&reader, (size_t)width * 4);
    } else {
        tower->tokens = read_part(&reader, (size_t)(facts->vocabulary * width) * 4);
        tower->positions = read_part(&reader, (size_t)(facts->context * width) * 4);
    }
    for (long i = 0; i < facts->layers; i++) {
        Layer *layer = &tower->layers[i];
        int last = i + 1 == facts->layers, form = last ? per_word : inner;
        layer->attention = read_map(&reader, width, last ? width : 3 * width, form, 1);
        layer->out = read_map(&reader, width, width, form, 1);
        layer->expand = read_map(&reader, width, expanded, form, 1);
        layer->contract = read_map(&reader, expanded, width, form, 1);
        if (form == 4) {
            layer->gains[0] = read_part(&reader, (size_t)width * 4);
            layer->gains[1] = read_part(&reader, (size_t)width * 4);
            const float *grids = read_part(&reader, 8 * sizeof *grids);
            for (int j = 0; j < 4 && !reader.short_of; j++)
                layer->grids[j] = (Grid){.inverse = grids[2 * j], .zero = (int)grids[2 * j + 1]};
        }
    }
    tower->keys = read_map(&reader, side, width, 1, 0);
    read_part(&reader, (size_t)((facts->heads - 1) * side) * round_up((size_t)width, LANES) * 4);
    size_t columns = round_up((size_t)side, LANES);
    tower->values = (Map){.panels = read_part(&reader, (size_t)(facts->heads * width) * columns * 4),
                          .inputs = width, .outputs = side};
    tower->last_norm[0] = read_part(&reader, (size_t)width * 4);
    tower->last_norm[1] = read_part(&reader, (size_t)width * 4);
    tower->projection = read_map(&reader, width, facts->dim, 1, 0);
    return !reader.short_of && reader.at == reader.end;
}

static PyObject *open_tower(PyObject *self, PyObject *args)
{
    (void)self;
    Tower *tower = calloc(1, sizeof *tower);
    if (tower == NULL)
        return PyErr_NoMemory();
    Facts *facts = &tower->facts;
    long expanded;
    int threads;
    if (!PyArg_ParseTuple(args, "y*(llllllllllddppp)i", &tower->body, &facts->size, &facts->grid, &facts->side,
                          &facts->width, &facts->heads, &facts->dim, &facts->layers, &expanded, &facts->vocabulary,
                          &facts->context, &facts->centre, &facts->epsilon, &facts->quick, &facts->bf16, &facts->int8,
                          &threads)) {
        free(tower);
        return NULL;
    }
    tower->team.threads = threads;
    tower->layers = calloc((size_t)facts->layers, sizeof *tower->layers);
    tower->workers = calloc((size_t)threads, sizeof *tower->workers);
    tower->desks = calloc(2 * (size_t)threads, sizeof *tower->desks);
    tower->alone = calloc((size_t)threads, sizeof *tower->alone);
    if (tower->layers == NULL || tower->workers == NULL || tower->desks == NULL || tower->alone == NULL) {
        free_tower(tower);
        return PyErr_NoMemory();
    }
    for (int i = 0; i < threads; i++)
        tower->alone[i].threads = 1;
    if (!read_body(tower, expanded)) {
        free_tower(tower);
        PyErr_SetString(PyExc_ValueError, "the packed weights are not as long as the tower's facts say");
        return NULL;
    }
    if (facts->size)
        tower->steps = facts->int8 ? int8_run_images : facts->bf16 ? bf16_run_images : f32_run_images;
    else
        tower->steps = facts->int8 ? int8_run_texts : facts->bf16 ? bf16_run_texts : f32_run_texts;
    if (!enlist(tower)) {
        PyErr_Format(PyExc_RuntimeError, "the system gave %d of %d threads", tower->started + 1, threads);
        free_tower(tower);
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(tower, CAPSULE, drop);
    if (capsule == NULL)
        free_tower(tower);
    return capsule;
}

/* Run a job on so many rows, of sequences of this length at most. */
static PyObject *finish_call(Tower *tower, Job *job, const Py_buffer *watched, long length, long rows)
{
    long seen = (tower->facts.layers * rows + job->count) * tower->facts.width * 4;
    if (watched->len && watched->len != seen)
        return PyErr_Format(PyExc_ValueError, "what is watched has %zd bytes, not %ld", watched->len, seen);
    job->watched = watched->len ? watched->buf : NULL;
    if (job->count == 0)
        Py_RETURN_NONE;
    if (tower->process != getpid() && !enlist(tower)) {
        PyErr_Format(PyExc_RuntimeError, "the system gave %d of %d threads", tower->started + 1, tower->team.threads);
        dismiss(tower);
        tower->stop = 0;
        tower->process = 0; /* so that the next call tries again */
        return NULL;
    }
    int enough = 0;
    Py_BEGIN_ALLOW_THREADS
    enough = reserve(tower, job, job->count, length, rows);
    if (enough)
        run(tower, job);
    Py_END_ALLOW_THREADS
    if (!enough)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *encode_images(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *result = NULL;
    Py_buffer pixels, out, watched;
    if (!PyArg_ParseTuple(args, "Oy*w*w*", &capsule, &pixels, &out, &watched))
        return NULL;
    Tower *tower = PyCapsule_GetPointer(capsule, CAPSULE);
    if (tower != NULL) {
        const Facts *facts = &tower->facts;
        Job job = {.pixels = pixels.buf, .out = out.buf, .count = (long)(out.len / (facts->dim * 4))};
        if (!facts->size || pixels.len != job.count * facts->size * facts->size * 3)
            PyErr_Format(PyExc_ValueError, "%zd bytes are not %ld pictures of %ld x %ld pixels", pixels.len, job.count,
                         facts->size, facts->size);
        else
            result = finish_call(tower, &job, &watched, 1 + facts->grid * facts->grid,
                                 job.count * (1 + facts->grid * facts->grid));
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&out);
    PyBuffer_Release(&watched);
    return result;
}

/* Whether all numbers are from 0 up to below a bound; sets the error. */
static int check(const char *name, const Py_buffer *numbers, long count, long bound)
{
    const int32_t *values = numbers->buf;
    if (numbers->len != count * 4) {
        PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %ld", name, numbers->len, count * 4);
        return 0;
    }
    for (long i = 0; i < count; i++)
        if (values[i] < 0 || values[i] >= bound) {
            PyErr_Format(PyExc_ValueError, "%s has %d; allowed: 0 to %ld", name, (int)values[i], bound - 1);
            return 0;
        }
    return 1;
}

/* Whether rows are listed in the order of their places in the groups, and see none behind them, as threads take them in
 * that order; sets the error. */
static int check_order(const Job *job)
{
    for (long i = 0, place = 0; i < job->rows; i++) {
        const long back = job->back[i], first = back / job->length * job->length;
        if (i > 0 && back < place) {
            PyErr_Format(PyExc_ValueError, "back has %ld behind %d; allowed: rising numbers", back,
                         (int)job->back[i - 1]);
            return 0;
        }
        for (place = place < first ? first : place; place <= back; place++)
            if (job->groups[place] > i) {
                PyErr_Format(PyExc_ValueError, "groups has %d up to row %ld; allowed: rows up to it",
                             (int)job->groups[place], i);
                return 0;
            }
    }
    return 1;
}

static PyObject *encode_texts(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *result = NULL;
    Py_buffer ids, places, groups, ends, back, texts, pooled, out, watched;
    Job job = {0};
    if (!PyArg_ParseTuple(args, "Oy*y*y*y*y*y*y*w*w*lll", &capsule, &ids, &places, &groups, &ends, &back, &texts,
                          &pooled, &out, &watched, &job.group_count, &job.length, &job.longest))
        return NULL;
    Tower *tower = PyCapsule_GetPointer(capsule, CAPSULE);
    if (tower != NULL) {
        const Facts *facts = &tower->facts;
        job.rows = (long)(ids.len / 4);
        job.count = (long)(out.len / (facts->dim * 4));
        job.ids = ids.buf, job.places = places.buf, job.groups = groups.buf, job.ends = ends.buf, job.back = back.buf;
        job.texts = texts.buf, job.pooled = pooled.buf, job.out = out.buf;
        long slots = job.group_count * job.length;
        if (facts->size)
            PyErr_SetString(PyExc_ValueError, "an image tower takes no texts");
        else if (check("ids", &ids, job.rows, facts->vocabulary) && check("places", &places, job.rows, facts->context) &&
                 check("groups", &groups, slots, job.rows) && check("ends", &ends, slots, job.length + 1) &&
                 check("back", &back, job.rows, slots) && check("texts", &texts, job.count * job.longest, job.rows) &&
                 check("pooled", &pooled, job.count, job.longest) && check_order(&job))
            result = finish_call(tower, &job, &watched, job.length > job.longest ? job.length : job.longest, job.rows);
    }
    Py_buffer *all[] = {&ids, &places, &groups, &ends, &back, &texts, &pooled, &out, &watched};
    for (int i = 0; i < 9; i++)
        PyBuffer_Release(all[i]);
    return result;
}

#else /* Another processor or compiler: the same functions, and no precision that would let anyone call them. */

static PyObject *refuse(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyErr_SetString(PyExc_RuntimeError, "the towers were not compiled for this processor");
    return NULL;
}

#define open_tower refuse
#define encode_images refuse
#define encode_texts refuse

#endif

static PyObject *list_precisions(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyObject *names = PyList_New(0);
#if COMPILED
    __builtin_cpu_init();
    int base = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const char *found[] = {base ? "f32" : NULL, base && __builtin_cpu_supports("avx512bf16") ? "bf16" : NULL,
                           base && __builtin_cpu_supports("avx512vnni") ? "int8" : NULL};
    for (int i = 0; i < 3 && names != NULL; i++) {
        PyObject *name = found[i] == NULL ? NULL : PyUnicode_FromString(found[i]);
        if (name != NULL && PyList_Append(names, name))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
#endif
    return names;
}

/* Whether the processor has a unit for products of whole tiles in bf16 (AMX), which these towers do not use. */
static PyObject *has_tiles(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
#if COMPILED
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return PyBool_FromLong(d >> 22 & 1);
#endif
    return PyBool_FromLong(0);
}

static PyMethodDef methods[] = {
    {"list_precisions", list_precisions, METH_NOARGS, "The precisions that this processor has the instructions for."},
    {"has_tiles", has_tiles, METH_NOARGS, "Whether this processor has AMX for bf16."},
    {"open_tower", open_tower, METH_VARARGS, "Make a tower of packed weights, its facts and a number of threads."},
    {"encode_images", encode_images, METH_VARARGS, "Pictures to embeddings."},
    {"encode_texts", encode_texts, METH_VARARGS, "Packed texts to embeddings."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "clipworks._towers", "CLIP's towers, compiled.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__towers(void)
{
    return PyModule_Create(&definition);
}
