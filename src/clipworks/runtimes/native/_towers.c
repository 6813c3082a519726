/* CLIP's two towers on processors with AVX-512: in f32, in bf16 with f32 sums, and in int8 on static grids.
 *
 * A tower is some hundred steps over rows of numbers. Each thread takes some of the rows, a part, through a layer alone;
 * what is too little for that, and the ends of a tower, a team of threads runs together: a step is cut into tasks,
 * whoever is free takes the next one, and all meet before the next step. The steps themselves are in
 * _towers_steps.h, which is compiled once for each precision. Weights come packed for the products' inner loop, from
 * one buffer that clipworks.runtimes.native makes, so nothing is copied when a tower is opened.
 *
 * Nothing that Python gives is trusted: sizes, types and shapes are checked before use, numbers that become addresses
 * are copied first, so that no other thread can change them afterwards. Calls of one tower wait for their turn here,
 * without Python's lock. A fork has no workers and perhaps a call that nobody finishes: its next call starts anew.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef COMPILED
#if defined(__x86_64__) && defined(__LP64__) && defined(__GNUC__) && !defined(_WIN32) && (defined(__clang__) || __GNUC__ >= 10)
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

typedef enum { LINEAR, QUICK, GELU, TANH } Activation;

/* What becomes of a product's sums; the last four are in the order of the activations. */
typedef enum { KEPT, SUMS, PLAIN_VALUES, QUICK_VALUES, GELU_VALUES, TANH_VALUES } Ending;

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
    atomic_int *broken; /* set where a value is NaN or Inf, for which no byte can stand */
} Grid;

typedef struct {
    Map attention, out, expand, contract; /* attention: queries, keys, values; of the last layer queries alone, or none */
    const float *gains[2];                /* of int8: of the normalisations before attention and expand */
    Grid grids[4];                        /* of int8: of what goes into the four maps */
} Layer;

typedef struct {
    long size, grid, side; /* of an image: pixels, patches, pixels of a patch; 0 for texts */
    long width, heads, dim, layers, vocabulary, context;
    long activation; /* one of Activation */
    double centre, epsilon;
    int cls_token, input_norm; /* of images: whether rows begin with one that is learned, and are normalised first */
    int causal;                /* of texts: whether they come packed; others all have `context` tokens */
    int attention_pool;        /* whether the last layer is an attention pooling: its query is learned, nothing is added to */
    int projected;             /* whether a projection follows; `dim` is `width` otherwise */
    int bf16, int8;            /* bf16: of int8 the attention and the last layer are */
} Facts;

typedef struct {
    _Atomic long next; /* task of the step */
    atomic_int arrived;
    atomic_uint phase;
    int threads;
} Team;

/* One call. Of packed texts the arrays are those of clipworks.text.packing, and the place that is pooled of each. */
typedef struct {
    const uint8_t *pixels;
    const int32_t *ids, *places, *groups, *ends, *back, *texts, *pooled;
    long count, rows, group_count, length, longest;
    float *out, *watched; /* watched: the rows behind each layer and the pooled ones behind the last, or NULL */
} Job;

/* Rows that go through a layer together, and the sequences that they are of: images or groups. */
typedef struct {
    long row, rows, sequence, sequences;
} Part;

/* Memory that a call works in. Rows lie `step` values apart. */
typedef struct {
    long step, wide_step, qkv_step, count; /* count: rows in all */
    long parts, images;  /* parts that threads take alone, or 0; of images so many in each, and all share the rest */
    Part *shares;          /* the parts of texts */
    _Atomic long *passed;  /* how many layers each of them is through */
    float *rows;           /* [count, width] */
    float *embedded;       /* [count, width]: of images the patches */
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
                             each desk; of images one place for both, for the rows of a part */
} Desk;

typedef struct Tower {
    Facts facts;
    Py_buffer body;
    Map patches, keys, values, projection; /* keys and values: of the last layer's first head */
    const float *tokens, *positions, *class_row, *first_norm[2], *last_norm[2];
    const float *look; /* [heads, full]: of an attention pooling, as in Work */
    long length;       /* rows of each sequence; 0 where texts come packed */
    Layer *layers;

    Team team;
    pthread_t *workers;
    int started, enlisted; /* enlisted: whether all workers are there */
    pthread_mutex_t turn;  /* held through a call */
    atomic_int busy;       /* whether it is, for a fork */
    atomic_int closed;
    atomic_int broken; /* of int8: whether the call met NaN or Inf */
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
    struct Tower *next, *previous; /* in the roster */
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
    if (kind == TANH) { /* as above, of 2 sqrt(2 / pi) (x + 0.044715 x^3) */
        __m512 steep = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.0713548163f), _mm512_set1_ps(-1.59576912f));
        steep = _mm512_max_ps(_mm512_mul_ps(x, steep), _mm512_set1_ps(-88.0f));
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
    if (kind == TANH) {
        __m512 steep = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.102943240f), _mm512_set1_ps(-2.30220820f));
        steep = raise_two(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(x, steep), lowest), _mm512_set1_ps(126.0f)));
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

/* bf16 and back, without the instructions for it: the nearest, of two equally near ones the even one. NaN stays NaN:
 * added to, its bits could become a number's. */
INLINE VECTORS __m256i halve(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), even);
    bits = _mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000));
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
        tower->memory[tower->held] = 0;
    else if (!strcmp(fault, "undefined"))
        most = most + tower->team.threads;
    else
        raced++; /* in all threads at once */
}
#else
#define plant(tower)
#endif

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
        plant(tower);
        tower->steps(tower, tower->job, me); /* its last step ends with a meeting */
    }
}

/* Start all workers; 0 where the system gives too few threads. */
static int enlist(Tower *tower)
{
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
    tower->enlisted = 1;
    return 1;
}

static void dismiss(Tower *tower)
{
    pthread_mutex_lock(&tower->lock);
    tower->stop = 1;
    pthread_cond_broadcast(&tower->wake);
    pthread_mutex_unlock(&tower->lock);
    for (int i = 0; i < tower->started; i++)
        pthread_join(tower->workers[i], NULL);
    tower->started = tower->enlisted = tower->stop = 0;
    tower->generation = 0; /* as a new worker has seen none */
}

/* Bring a tower to where nobody works. */
static void set_up(Tower *tower)
{
    pthread_mutex_init(&tower->turn, NULL);
    pthread_mutex_init(&tower->lock, NULL);
    pthread_cond_init(&tower->wake, NULL);
    atomic_store(&tower->team.next, 0);
    atomic_store(&tower->team.arrived, 0);
    for (int i = 0; i < tower->team.threads; i++)
        atomic_store(&tower->alone[i].next, 0);
    tower->generation = 0;
    tower->started = tower->enlisted = tower->stop = 0;
    atomic_store(&tower->broken, 0);
}

/* All towers of this process. A fork happens while no other thread changes the list; in the child no thread is left but
 * the one that forked, and what the others held, or were in the middle of, is set up anew. */
static pthread_mutex_t roster = PTHREAD_MUTEX_INITIALIZER;
static Tower *towers;

static void enter(Tower *tower)
{
    pthread_mutex_lock(&roster);
    tower->next = towers;
    if (towers != NULL)
        towers->previous = tower;
    towers = tower;
    pthread_mutex_unlock(&roster);
}

static void leave(Tower *tower)
{
    pthread_mutex_lock(&roster);
    if (tower->previous != NULL)
        tower->previous->next = tower->next;
    else if (towers == tower)
        towers = tower->next;
    if (tower->next != NULL)
        tower->next->previous = tower->previous;
    pthread_mutex_unlock(&roster);
}

static void before_fork(void)
{
    pthread_mutex_lock(&roster);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&roster);
}

static void after_fork_in_child(void)
{
    pthread_mutex_unlock(&roster);
    for (Tower *tower = towers; tower != NULL; tower = tower->next) {
        set_up(tower);
        if (atomic_exchange(&tower->busy, 0)) { /* perhaps it was just being freed: a leak is the lesser evil */
            tower->memory = NULL;
            tower->held = 0;
        }
    }
}

static void run(Tower *tower, const Job *job)
{
    plant(tower);
    if (tower->team.threads > 1) {
        pthread_mutex_lock(&tower->lock);
        tower->job = job;
        tower->generation++;
        pthread_cond_broadcast(&tower->wake);
        pthread_mutex_unlock(&tower->lock);
    }
    tower->steps(tower, job, 0);
    if (atomic_exchange(&tower->broken, 0)) /* which rows saw it is not known */
        for (long i = 0; i < job->count * tower->facts.dim; i++)
            job->out[i] = NAN;
}

/* How many parts of how many sequences threads take through the layers alone; the rest is for all together. */
static void share_images(Work *work, long images, long length, long threads)
{
    long most = OWN / length > 1 ? OWN / length : 1, each = images / threads < most ? images / threads : most;
    work->images = each;
    work->parts = each ? images / each / threads * threads : 0;
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

/* A product of sizes, or MOST where it is larger: some such can still be added up. */
#define MOST ((size_t)PTRDIFF_MAX / 64)

static size_t times(size_t one, size_t other)
{
    size_t product;
    return __builtin_mul_overflow(one, other, &product) || product > MOST ? MOST : product;
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
    if (tower->length) {
        share_images(work, sequences, length, threads);
        long rest = (sequences - work->parts * work->images) * length;
        own = work->images * length;
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
    size_t slots = (size_t)(job->group_count * job->length), qkv = (size_t)work->qkv_step * value, texts = !tower->length;
    enum { ROWS, EMBEDDED, POOLED, QUERY, LOOK, FACTORS, WIDE, BYTES, EVEN, ODD, SHARES, PASSED, OWNED, TWINS, FIRSTS,
           KINDS, TABLE, PARTS };
    size_t sizes[PARTS] = {
        [ROWS] = times(count, step * 4),
        [EMBEDDED] = facts->size ? times(count, step * 4) : 0,
        [POOLED] = times(ends, step * 4),
        [QUERY] = times(ends, step * 4),
        [LOOK] = times(ends, heads * full * 4),
        [FACTORS] = times(desk, step * value),
        [WIDE] = times(desk, (size_t)work->wide_step * value),
        [BYTES] = facts->int8 ? times(desk, step) : 0,
        [EVEN] = times(texts ? count : desk, qkv),
        [ODD] = times(texts * count, qkv),
        [SHARES] = texts * (size_t)work->parts * sizeof(Part),
        [PASSED] = texts * (size_t)work->parts * sizeof *work->passed,
        [OWNED] = slots * 4,
        [TWINS] = slots * 4,
        [FIRSTS] = texts * count * 4,
        [KINDS] = texts * count * 4,
        [TABLE] = texts * room * 4,
    };
    const size_t sides = round_up(side, LANES);
    size_t attention = times(4, times(sides, padded) + times(padded + 1, sides) +
                                    times(QUERIES, side + 2 * padded + sides));
    size_t gaze = times(4, times(full, lanes) + times(2 * padded, lanes) + times((size_t)length, full));
    size_t scratch = BLOCK * PANEL * 4;
    scratch = round_up((scratch < attention ? attention : scratch) + ALIGNMENT, ALIGNMENT);
    scratch = scratch < gaze ? round_up(gaze, ALIGNMENT) : scratch;
    size_t total = ALIGNMENT * 4 + times(scratch, (size_t)threads);
    for (int i = 0; i < PARTS; i++)
        total += round_up(sizes[i] + ALIGNMENT, ALIGNMENT);
    if (total > MOST)
        return 0;
    if (total > tower->held) {
        free(tower->memory);
        tower->memory = NULL;
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
    if (texts) {
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

#define CAPSULE "clipworks.runtimes.native._towers.Tower"

/* End the threads and free what they worked in; the weights are released by who has Python's lock. */
static void shut(Tower *tower)
{
    dismiss(tower);
    free(tower->memory);
    tower->memory = NULL;
    tower->held = 0;
}

static void free_tower(Tower *tower)
{
    leave(tower);
    shut(tower);
    pthread_mutex_destroy(&tower->turn);
    pthread_mutex_destroy(&tower->lock);
    pthread_cond_destroy(&tower->wake);
    PyBuffer_Release(&tower->body);
    free(tower->layers);
    free(tower->workers);
    free(tower->desks);
    free(tower->alone);
    free(tower);
}

static void drop(PyObject *capsule)
{
    free_tower(PyCapsule_GetPointer(capsule, CAPSULE));
}

/* What a tower takes. */
typedef enum { IMAGES, PACKED_TEXTS, FULL_TEXTS } Kind;

/* The tower that Python means, open and of this kind; sets the error. */
static Tower *find_tower(PyObject *capsule, Kind kind)
{
    static const char *const names[] = {"images", "packed texts", "texts of full length"};
    if (!PyCapsule_IsValid(capsule, CAPSULE)) {
        PyErr_SetString(PyExc_TypeError, "the tower is none that open_tower gave");
        return NULL;
    }
    Tower *tower = PyCapsule_GetPointer(capsule, CAPSULE);
    const Kind own = tower->facts.size ? IMAGES : tower->length ? FULL_TEXTS : PACKED_TEXTS;
    if (atomic_load(&tower->closed))
        PyErr_SetString(PyExc_ValueError, "the tower is closed");
    else if (kind != own)
        PyErr_Format(PyExc_ValueError, "the tower is one for %s", names[own]);
    else
        return tower;
    return NULL;
}

/* A type and shape in words; -1 stands for any number. */
static const char *describe(char *text, size_t room, const char *format, int dims, const Py_ssize_t *shape)
{
    static const char *const names[] = {"B" "uint8", "b" "int8", "?" "bool", "H" "uint16", "h" "int16", "I" "uint32",
                                        "i" "int32", "L" "uint64", "l" "int64", "e" "float16", "f" "float32",
                                        "d" "float64"};
    const char *name = format;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (format[0] == names[i][0] && !format[1])
            name = names[i] + 1;
    size_t used = (size_t)snprintf(text, room, "%.20s [", name);
    for (int i = 0; i < dims && used < room; i++) {
        const char *comma = i ? ", " : "";
        used += (size_t)(shape[i] < 0 ? snprintf(text + used, room - used, "%sn", comma)
                                      : snprintf(text + used, room - used, "%s%zd", comma, shape[i]));
    }
    if (used < room)
        snprintf(text + used, room - used, "]");
    return text;
}

/* An array as it lies in memory, contiguous, of one type ("B", "i" or "f") and of a shape, in which -1 is any number;
 * sets the error. What could not be had may be released all the same. */
static int open_view(PyObject *object, const char *name, int writable, const char *type, int dims,
                     const Py_ssize_t *shape, Py_buffer *view)
{
    char given[200], allowed[200];
    view->obj = NULL;
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError, "%s is no array", name);
        return 0;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0))) {
        view->obj = NULL;
        if (PyErr_ExceptionMatches(PyExc_MemoryError))
            return 0;
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s does not lie in memory as it must: contiguous%s", name,
                     writable ? " and writable" : "");
        return 0;
    }
    const char *format = view->format == NULL ? "B" : view->format;
    int fits = !strcmp(format, type) && view->ndim == dims && view->itemsize == (*type == 'B' ? 1 : 4);
    for (int i = 0; fits && i < dims; i++)
        fits = shape[i] < 0 || view->shape[i] == shape[i];
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "%s is %s; allowed: %s", name,
                     describe(given, sizeof given, format, view->ndim, view->shape),
                     describe(allowed, sizeof allowed, type, dims, shape));
        return 0;
    }
    if ((uintptr_t)view->buf % (size_t)view->itemsize) {
        PyErr_Format(PyExc_ValueError, "%s begins within a number; allowed: multiples of %zd bytes", name, view->itemsize);
        return 0;
    }
    return 1;
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

/* Find all parts of the packed weights; what is wrong with them, or NULL. */
static const char *read_body(Tower *tower, long expanded)
{
    const Facts *facts = &tower->facts;
    Reader reader = {.at = tower->body.buf, .end = (const char *)tower->body.buf + tower->body.len};
    long width = facts->width, side = width / facts->heads;
    int per_word = facts->bf16 ? 2 : 1, inner = facts->int8 ? 4 : per_word;
    if (facts->size) {
        tower->patches = read_map(&reader, facts->side * facts->side * 3, width, inner, 0);
        tower->positions = read_part(&reader, (size_t)(facts->grid * facts->grid * width) * 4);
        if (facts->cls_token)
            tower->class_row = read_part(&reader, (size_t)width * 4);
        for (int i = 0; i < 2 && facts->input_norm; i++)
            tower->first_norm[i] = read_part(&reader, (size_t)width * 4);
    } else {
        tower->tokens = read_part(&reader, (size_t)(facts->vocabulary * width) * 4);
        tower->positions = read_part(&reader, (size_t)(facts->context * width) * 4);
    }
    for (long i = 0; i < facts->layers; i++) {
        Layer *layer = &tower->layers[i];
        int last = i + 1 == facts->layers, form = last ? per_word : inner;
        if (last && facts->attention_pool)
            tower->look = read_part(&reader, (size_t)facts->heads * round_up((size_t)width, LANES) * 4);
        else
            layer->attention = read_map(&reader, width, last ? width : 3 * width, form, 1);
        layer->out = read_map(&reader, width, width, form, 1);
        layer->expand = read_map(&reader, width, expanded, form, 1);
        layer->contract = read_map(&reader, expanded, width, form, 1);
        if (form == 4) {
            layer->gains[0] = read_part(&reader, (size_t)width * 4);
            layer->gains[1] = read_part(&reader, (size_t)width * 4);
            const float *grids = read_part(&reader, 8 * sizeof *grids);
            for (int j = 0; j < 4 && !reader.short_of; j++) {
                if (!(grids[2 * j] > 0 && grids[2 * j] <= FLT_MAX && grids[2 * j + 1] >= 0 && grids[2 * j + 1] <= 255))
                    return "the packed weights round by a scale or a zero point that is none";
                layer->grids[j] = (Grid){grids[2 * j], (int)grids[2 * j + 1], &tower->broken};
            }
        }
    }
    if (!facts->attention_pool) {
        tower->keys = read_map(&reader, side, width, 1, 0);
        read_part(&reader, (size_t)((facts->heads - 1) * side) * round_up((size_t)width, LANES) * 4);
    }
    size_t columns = round_up((size_t)side, LANES);
    tower->values = (Map){.panels = read_part(&reader, (size_t)(facts->heads * width) * columns * 4),
                          .inputs = width, .outputs = side};
    for (int i = 0; i < 2 && !facts->attention_pool; i++)
        tower->last_norm[i] = read_part(&reader, (size_t)width * 4);
    if (facts->projected)
        tower->projection = read_map(&reader, width, facts->dim, 1, 1);
    return !reader.short_of && reader.at == reader.end ? NULL
                                                       : "the packed weights are not as long as the tower's facts say";
}

/* The precisions that the processor has the instructions for, in the order f32, bf16, int8. */
static void find_precisions(int found[3])
{
    __builtin_cpu_init();
    found[0] = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    found[1] = found[0] && __builtin_cpu_supports("avx512bf16");
    found[2] = found[0] && __builtin_cpu_supports("avx512vnni");
}

/* Whether a tower can be of these sizes; sets the error. With these bounds no product of a tower's own sizes overflows. */
static int check_facts(const Facts *facts, long expanded, int threads)
{
    const long images = facts->size != 0;
    const struct {
        const char *name;
        long value, least, most;
    } sizes[] = {
        {"size", facts->size, 0, 1 << 14},
        {"grid", facts->grid, images, facts->size},
        {"side", facts->side, images, facts->grid > 0 ? facts->size / facts->grid : 0},
        {"width", facts->width, 1, 1 << 16},
        {"heads", facts->heads, 1, facts->width},
        {"dim", facts->dim, 1, 1 << 16},
        {"layers", facts->layers, 1, 1 << 12},
        {"expanded", expanded, 1, 1 << 20},
        {"vocabulary", facts->vocabulary, !images, images ? 0 : 1 << 28},
        {"context", facts->context, !images, images ? 0 : 1 << 20},
        {"activation", facts->activation, QUICK, TANH},
        {"threads", threads, 1, 1 << 12},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most) {
            PyErr_Format(PyExc_ValueError, "%s is %ld; allowed: %ld to %ld", sizes[i].name, sizes[i].value,
                         sizes[i].least, sizes[i].most);
            return 0;
        }
    if (facts->width % facts->heads) {
        PyErr_Format(PyExc_ValueError, "heads is %ld; allowed: what divides width, %ld", facts->heads, facts->width);
        return 0;
    }
    if (!facts->projected && facts->dim != facts->width) {
        PyErr_Format(PyExc_ValueError, "dim is %ld without a projection; allowed: width, %ld", facts->dim, facts->width);
        return 0;
    }
    if (!(facts->centre >= 0 && facts->centre <= 255 && facts->epsilon >= 0 && facts->epsilon <= 1)) {
        PyErr_SetString(PyExc_ValueError, "centre or epsilon is out of range; allowed: 0 to 255, and 0 to 1");
        return 0;
    }
    int found[3];
    find_precisions(found);
    if (!found[0] || (facts->bf16 && !found[1]) || (facts->int8 && !found[2])) {
        PyErr_SetString(PyExc_ValueError, "this processor lacks the instructions for the tower's precision");
        return 0;
    }
    return 1;
}

static PyObject *open_tower(PyObject *self, PyObject *args)
{
    (void)self;
    static const Py_ssize_t any[] = {-1};
    Facts given;
    PyObject *weights;
    long expanded;
    int threads;
    if (!PyArg_ParseTuple(args, "O(lllllllllllddppppppp)i", &weights, &given.size, &given.grid, &given.side, &given.width,
                          &given.heads, &given.dim, &given.layers, &expanded, &given.vocabulary, &given.context,
                          &given.activation, &given.centre, &given.epsilon, &given.cls_token, &given.input_norm,
                          &given.causal, &given.attention_pool, &given.projected, &given.bf16, &given.int8, &threads)) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ValueError, "a size is too large for a number of the processor");
        }
        return NULL;
    }
    if (!check_facts(&given, expanded, threads))
        return NULL;
    Tower *tower = calloc(1, sizeof *tower);
    if (tower == NULL)
        return PyErr_NoMemory();
    if (!open_view(weights, "weights", 0, "B", 1, any, &tower->body)) {
        PyBuffer_Release(&tower->body);
        free(tower);
        return NULL;
    }
    const Facts *facts = &tower->facts;
    tower->facts = given;
    tower->length = given.size ? given.grid * given.grid + given.cls_token : given.causal ? 0 : given.context;
    tower->team.threads = threads;
    tower->layers = calloc((size_t)facts->layers, sizeof *tower->layers);
    tower->workers = calloc((size_t)threads, sizeof *tower->workers);
    tower->desks = calloc(2 * (size_t)threads, sizeof *tower->desks);
    tower->alone = calloc((size_t)threads, sizeof *tower->alone);
    int enough = tower->layers != NULL && tower->workers != NULL && tower->desks != NULL && tower->alone != NULL;
    if (!enough)
        tower->team.threads = 0;
    for (int i = 0; i < tower->team.threads; i++)
        tower->alone[i].threads = 1;
    set_up(tower);
    enter(tower);
    if (!enough) {
        free_tower(tower);
        return PyErr_NoMemory();
    }
    const char *wrong = (uintptr_t)tower->body.buf % sizeof(float) ? "the packed weights begin within a number"
                                                                   : read_body(tower, expanded);
    if (wrong != NULL) {
        free_tower(tower);
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    if (tower->length)
        tower->steps = facts->int8 ? int8_run_sequences : facts->bf16 ? bf16_run_sequences : f32_run_sequences;
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

/* Once the calls before have come to their end. */
static PyObject *close_tower(PyObject *self, PyObject *capsule)
{
    (void)self;
    if (!PyCapsule_IsValid(capsule, CAPSULE)) {
        PyErr_SetString(PyExc_TypeError, "the tower is none that open_tower gave");
        return NULL;
    }
    Tower *tower = PyCapsule_GetPointer(capsule, CAPSULE);
    int first = 0;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&tower->turn);
    atomic_store(&tower->busy, 1);
    first = !atomic_exchange(&tower->closed, 1);
    if (first)
        shut(tower);
    atomic_store(&tower->busy, 0);
    pthread_mutex_unlock(&tower->turn);
    Py_END_ALLOW_THREADS
    if (first)
        PyBuffer_Release(&tower->body);
    Py_RETURN_NONE;
}

/* Run a job on so many rows, of sequences of this length at most, when it is its turn. */
static PyObject *finish_call(Tower *tower, Job *job, const Py_buffer *watched, long length, long rows)
{
    const size_t shown = times(times((size_t)tower->facts.layers, (size_t)rows) + (size_t)job->count,
                               (size_t)tower->facts.width);
    if (watched->len && (size_t)watched->len != times(shown, 4))
        return PyErr_Format(PyExc_ValueError, "watched has %zd numbers; allowed: 0 or %zu", watched->len / 4, shown);
    job->watched = watched->len ? watched->buf : NULL;
    if (job->count == 0)
        Py_RETURN_NONE;
    enum { DONE, CLOSED, NO_THREADS, NO_MEMORY } end = DONE;
    int started = 0;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&tower->turn);
    atomic_store(&tower->busy, 1);
    if (atomic_load(&tower->closed)) {
        end = CLOSED;
    } else if (!tower->enlisted && !enlist(tower)) { /* in a fork */
        end = NO_THREADS;
        started = tower->started;
        dismiss(tower); /* so that the next call tries again */
    } else if (!reserve(tower, job, job->count, length, rows)) {
        end = NO_MEMORY;
    } else {
        run(tower, job);
    }
    atomic_store(&tower->busy, 0);
    pthread_mutex_unlock(&tower->turn);
    Py_END_ALLOW_THREADS
    if (end == NO_MEMORY)
        return PyErr_NoMemory();
    if (end == CLOSED)
        PyErr_SetString(PyExc_ValueError, "the tower is closed");
    else if (end == NO_THREADS)
        PyErr_Format(PyExc_RuntimeError, "the system gave %d of %d threads", started + 1, tower->team.threads);
    else
        Py_RETURN_NONE;
    return NULL;
}

static PyObject *encode_images(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[3], *result = NULL;
    Py_buffer pixels = {0}, out = {0}, watched = {0};
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &objects[0], &objects[1], &objects[2]))
        return NULL;
    Tower *tower = find_tower(capsule, IMAGES);
    if (tower == NULL)
        return NULL;
    const Facts *facts = &tower->facts;
    if (open_view(objects[0], "pixels", 0, "B", 4, (Py_ssize_t[]){-1, facts->size, facts->size, 3}, &pixels) &&
        open_view(objects[1], "out", 1, "f", 2, (Py_ssize_t[]){pixels.shape[0], facts->dim}, &out) &&
        open_view(objects[2], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &watched)) {
        Job job = {.pixels = pixels.buf, .out = out.buf, .count = (long)pixels.shape[0]};
        result = finish_call(tower, &job, &watched, tower->length, job.count * tower->length);
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&out);
    PyBuffer_Release(&watched);
    return result;
}

/* Whether all numbers are from 0 up to below a bound; sets the error. */
static int check(const char *name, const int32_t *numbers, long count, long bound)
{
    for (long i = 0; i < count; i++)
        if (numbers[i] < 0 || numbers[i] >= bound) {
            PyErr_Format(PyExc_ValueError, "%s has %d; allowed: 0 to %ld", name, (int)numbers[i], bound - 1);
            return 0;
        }
    return 1;
}

static PyObject *encode_full_texts(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[3], *result = NULL;
    Py_buffer ids = {0}, out = {0}, watched = {0};
    int32_t *copy = NULL;
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &objects[0], &objects[1], &objects[2]))
        return NULL;
    Tower *tower = find_tower(capsule, FULL_TEXTS);
    if (tower == NULL)
        return NULL;
    const Facts *facts = &tower->facts;
    if (open_view(objects[0], "ids", 0, "i", 2, (Py_ssize_t[]){-1, tower->length}, &ids) &&
        open_view(objects[1], "out", 1, "f", 2, (Py_ssize_t[]){ids.shape[0], facts->dim}, &out) &&
        open_view(objects[2], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &watched)) {
        const long count = (long)ids.shape[0], rows = count * tower->length;
        copy = malloc((size_t)ids.len + 1);
        if (copy == NULL) {
            PyErr_NoMemory();
        } else {
            Job job = {.ids = memcpy(copy, ids.buf, (size_t)ids.len), .out = out.buf, .count = count};
            if (check("ids", copy, rows, facts->vocabulary))
                result = finish_call(tower, &job, &watched, tower->length, rows);
        }
    }
    free(copy);
    PyBuffer_Release(&ids);
    PyBuffer_Release(&out);
    PyBuffer_Release(&watched);
    return result;
}

/* Whether rows are listed in the order of their places in the groups, which name them, and see none behind them, as
 * threads take them in that order; sets the error. */
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
        if (job->groups[back] != i || job->ends[back] <= back - first) {
            PyErr_Format(PyExc_ValueError, "back has %ld for row %ld, where groups has row %d seen up to place %d", back,
                         i, (int)job->groups[back], (int)job->ends[back]);
            return 0;
        }
    }
    return 1;
}

/* The arrays of packed texts, in the order in which they are given; behind them come two of floats. */
enum { IDS, PLACES, GROUPS, ENDS, BACK, TEXTS, CHOSEN, NUMBERS, OUT = NUMBERS, WATCHED, ARRAYS };

/* Look at all arrays and make a job of them. What becomes an address is copied first; `copy` is to be freed. */
static int read_texts(const Facts *facts, PyObject *const objects[ARRAYS], Py_buffer views[ARRAYS], Job *job,
                      int32_t **copy)
{
    static const char *const names[] = {"ids", "places", "groups", "ends", "back", "texts", "pooled"};
    Py_ssize_t one_row[] = {1, -1}, table[] = {-1, -1}, line[] = {-1};
    size_t total = 1; /* as there may be none */
    for (int i = 0; i < NUMBERS; i++) {
        const Py_ssize_t *shape = i == CHOSEN ? line : i == GROUPS || i == ENDS || i == TEXTS ? table : one_row;
        if (!open_view(objects[i], names[i], 0, "i", i == CHOSEN ? 1 : 2, shape, &views[i]))
            return 0;
        if (i == IDS)
            one_row[1] = views[IDS].shape[1];
        if (i == GROUPS)
            table[0] = views[GROUPS].shape[0], table[1] = views[GROUPS].shape[1];
        if (i == ENDS)
            table[0] = table[1] = -1;
        if (i == TEXTS)
            line[0] = views[TEXTS].shape[0];
        if (views[i].len / 4 > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s has %zd numbers; allowed: %d", names[i], views[i].len / 4, INT32_MAX);
            return 0;
        }
        total += (size_t)views[i].len / 4;
    }
    if (!open_view(objects[OUT], "out", 1, "f", 2, (Py_ssize_t[]){views[TEXTS].shape[0], facts->dim}, &views[OUT]) ||
        !open_view(objects[WATCHED], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &views[WATCHED]))
        return 0;
    *copy = malloc(total * sizeof **copy);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    const int32_t **into[] = {&job->ids, &job->places, &job->groups, &job->ends, &job->back, &job->texts, &job->pooled};
    int32_t *at = *copy;
    for (int i = 0; i < NUMBERS; at += views[i].len / 4, i++)
        *into[i] = memcpy(at, views[i].buf, (size_t)views[i].len);
    job->out = views[OUT].buf;
    job->rows = (long)views[IDS].shape[1];
    job->count = (long)views[TEXTS].shape[0];
    job->group_count = (long)views[GROUPS].shape[0];
    job->length = (long)views[GROUPS].shape[1];
    job->longest = (long)views[TEXTS].shape[1];
    const long slots = job->group_count * job->length;
    return check("ids", job->ids, job->rows, facts->vocabulary) &&
           check("places", job->places, job->rows, facts->context) && check("groups", job->groups, slots, job->rows) &&
           check("ends", job->ends, slots, job->length + 1) && check("back", job->back, job->rows, slots) &&
           check("texts", job->texts, job->count * job->longest, job->rows) &&
           check("pooled", job->pooled, job->count, job->longest) && check_order(job);
}

static PyObject *encode_texts(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[ARRAYS], *result = NULL;
    Py_buffer views[ARRAYS] = {0};
    Job job = {0};
    int32_t *copy = NULL;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOO", &capsule, &objects[IDS], &objects[PLACES], &objects[GROUPS],
                          &objects[ENDS], &objects[BACK], &objects[TEXTS], &objects[CHOSEN], &objects[OUT],
                          &objects[WATCHED]))
        return NULL;
    Tower *tower = find_tower(capsule, PACKED_TEXTS);
    if (tower == NULL)
        return NULL;
    if (read_texts(&tower->facts, objects, views, &job, &copy))
        result = finish_call(tower, &job, &views[WATCHED], job.length > job.longest ? job.length : job.longest, job.rows);
    free(copy);
    for (int i = 0; i < ARRAYS; i++)
        PyBuffer_Release(&views[i]);
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
#define close_tower refuse
#define encode_images refuse
#define encode_texts refuse
#define encode_full_texts refuse

#endif

static PyObject *list_precisions(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyObject *names = PyList_New(0);
#if COMPILED
    static const char *const precisions[] = {"f32", "bf16", "int8"};
    int found[3];
    find_precisions(found);
    for (int i = 0; i < 3 && names != NULL; i++) {
        PyObject *name = found[i] ? PyUnicode_FromString(precisions[i]) : NULL;
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
    {"close_tower", close_tower, METH_O, "End a tower's threads and free its memory, after the calls before."},
    {"encode_images", encode_images, METH_VARARGS, "Images to embeddings."},
    {"encode_texts", encode_texts, METH_VARARGS, "Packed texts to embeddings."},
    {"encode_full_texts", encode_full_texts, METH_VARARGS, "Texts that all have the tower's context to embeddings."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "clipworks.runtimes.native._towers", "CLIP's towers, compiled.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__towers(void)
{
#if COMPILED
    static int watching; /* for forks; there is no way to end that */
    if (!watching && pthread_atfork(before_fork, after_fork, after_fork_in_child))
        return PyErr_NoMemory();
    watching = 1;
#endif
    return PyModule_Create(&definition);
}
