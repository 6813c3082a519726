/* The seam between arithmetic and orchestration: what each instruction set has to compute, and on what.
 *
 * A tower's linear maps are GEMMs: rows of values times a packed matrix, [inputs, outputs], whose sums go through an
 * epilogue. Values lie in rows of 32-bit words: one f32, two bf16 or four int8 each. A packed matrix lies in panels of
 * NR columns, [words, NR] each; the columns of its last panel are filled up with zeros to a multiple of FILL. All
 * instruction sets share this layout.
 *
 * Everything here is called with sizes that have been checked, by one thread at a time for what it writes.
 */
#ifndef CLIPWORKS_KERNELS_H
#define CLIPWORKS_KERNELS_H

/* gcc or clang, 64 bits and POSIX threads: elsewhere the module is built without towers. */
#ifndef COMPILED
#if defined(__GNUC__) && defined(__LP64__) && !defined(_WIN32)
#define COMPILED 1
#else
#define COMPILED 0
#endif
#endif

#if COMPILED

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define NR 48      /* columns of a panel */
#define FILL 16    /* columns that all panels, and rows that are no input of Python's, are filled up to */
#define QUERIES 64 /* rows of an attention's scores that are kept at once */
#define ALIGNMENT 64

typedef enum { F32, BF16, INT8, FORMATS } Format;
typedef enum { LINEAR, QUICK_GELU, GELU, GELU_TANH } Activation;

/* Values of a format in a 32-bit word. */
static const int per_word[FORMATS] = {1, 2, 4};

/* How values become bytes: times inverse, to the nearest, plus the zero point. */
typedef struct {
    float inverse;
    int zero_point;
    atomic_int *broken; /* set where a value is NaN or Inf, for which no byte can stand */
} Quantizer;

/* What becomes of a GEMM's sums: scaled (int8), plus the bias, through the activation, plus what is added. */
typedef struct {
    const float *bias;          /* [columns], or NULL */
    const float *scales;        /* [columns]: of int8, what a sum is worth */
    const float *added;         /* f32 rows, or NULL; only where `format` is F32 */
    const Quantizer *quantizer; /* where `format` is INT8 */
    void *out;
    Format format; /* of what is written */
    Activation activation;
    long added_step, out_step; /* values between rows */
} Epilogue;

/* Rows of values times one panel, or a part of its depth. */
typedef struct {
    const uint32_t *a;    /* [rows, words], a_step words apart */
    const uint32_t *b;    /* [words, columns], b_step apart, filled up to FILL columns */
    long a_step, b_step, words;
    float *sums;          /* where sums are kept, sums_step apart; int32 of int8 */
    long sums_step;
    int add;              /* whether `sums` holds what is added to */
    const char *ahead;    /* what is read next, or NULL: prefetched on the way */
    const Epilogue *epilogue; /* or NULL: sums stay where they are. With one, `sums` has rows for all of them, too */
    long row, column;     /* of the epilogue's rows and columns: where these begin */
} Gemm;

/* The attention of one head over one sequence, in one format. */
typedef struct {
    const void *qkv;      /* rows of queries, keys and values, `width` values each, `step` values apart */
    long step, width, heads, head;
    long length;          /* rows of the sequence */
    const int32_t *index; /* which rows it has; NULL for those in order */
    const int32_t *owned; /* of each place the row that is asked for, or -1; NULL for all in order */
    const int32_t *ends;  /* of each place the one before which it is seen from places behind it; NULL: all see all */
    long first, asked;    /* the rows of `owned` that are written, `first` as row 0 of `out` */
    void *out;            /* rows, `out_step` values apart */
    long out_step;
} Attention;

/* The attention of one row over a sequence of f32 rows, all heads, with the keys folded into the queries. */
typedef struct {
    const float *rows;
    long step, width, heads, length;
    const int32_t *index; /* which rows the sequence has; NULL for those in order */
    float epsilon;
    float *queries;       /* [heads, width filled up]; becomes the mean of the normalized rows by each head's weights */
} Pooling;

/* What an instruction set computes in a format; NULL for what does not exist in it. */
typedef struct {
    const char *name; /* of the instruction set that they are written with */
    void (*gemm)(const Gemm *gemm, long rows, long columns);
    /* One f32 row brought to mean 0 and variance 1, times weight plus bias if `norm` has them. */
    void (*normalize)(const float *row, long width, float epsilon, const float *const norm[2], void *out);
    void (*convert)(const float *row, long width, void *out);
    void (*center)(const uint8_t *pixels, long count, float center, void *out);
    void (*attend)(const Attention *attention, char *scratch);
    void (*pool)(const Pooling *pooling, char *scratch);
    void (*add)(const float *one, const float *other, long width, float *out);
    /* A row of F32 or BF16, times weight unless it is NULL, to bytes. */
    void (*quantize)(const void *row, Format format, long width, const float *weight, const Quantizer *quantizer,
                     uint8_t *out);
    long part_rows; /* that a thread takes through a layer alone: as many as stay in its core's cache, and enough to be
                       worth reading the weights */
} Kernels;

#define PART_ROWS 104
#define TILE_PART_ROWS 208

/* An instruction set that native has kernels for. */
typedef struct {
    const char *name;
    int (*find)(void);                /* whether the processor has it and the system lets it be used */
    int (*enable)(void);              /* asks the system for it, for as long as this process lives; NULL: no need to */
    const Kernels *kernels[FORMATS];  /* NULL for formats that it has no instructions for */
} InstructionSet;

extern const InstructionSet instruction_sets[]; /* from the lowest to the highest; ends with a name of NULL */

extern const Kernels scalar_f32, scalar_bf16, scalar_int8;
#ifdef __x86_64__
extern const Kernels avx2_f32, avx2_int8, avx2_vnni_int8;
extern const Kernels avx512_f32, avx512_bf16, avx512_int8;
extern const Kernels amx_bf16, amx_int8;
#endif

static inline long round_up(long number, long step)
{
    return (number + step - 1) / step * step;
}

/* Bytes of scratch that attentions and poolings of these sizes need, in any instruction set. */
size_t attention_scratch(long head_width, long length);
size_t pooling_scratch(long width, long heads, long length);

#endif
#endif
