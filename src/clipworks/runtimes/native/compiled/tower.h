/* A tower: what it is, its packed weights, the memory that a call works in, and its threads. */
#ifndef CLIPWORKS_TOWER_H
#define CLIPWORKS_TOWER_H

#include "kernels.h"
#include "team.h"

typedef struct {
    long image_size, grid, patch_size; /* pixels, patches along a side, pixels along a patch's; 0 for texts */
    long width, heads, dim, layers, mlp_dim, vocabulary, context;
    long activation; /* one of Activation */
    double center, epsilon;
    int cls_token, input_norm; /* of images: whether rows begin with one that is learned, and are normalized first */
    int causal;                /* of texts: whether they come packed; others all have `context` tokens */
    int attention_pool;        /* whether the last layer is an attention pooling: its query is learned, nothing is added to */
    int projected;             /* whether a projection follows; `dim` is `width` otherwise */
    int bf16, int8;            /* bf16: of int8 the attention and the last layer are */
} Facts;

/* A linear map, packed for GEMM. */
typedef struct {
    const void *panels;
    const float *bias;   /* or NULL */
    const float *scales; /* of int8: what a sum of each column is worth */
    long inputs, outputs;
    Format format;
} Linear;

typedef struct {
    Linear qkv, proj, fc1, fc2; /* qkv: of the last layer queries alone, or none */
    const float *weights[2];    /* of int8: of the normalizations before qkv and fc1 */
    Quantizer quantizers[4];    /* of int8: of what goes into the four maps */
} Layer;

/* One call. Of packed texts the arrays are those of clipworks.text.packing, and the place that is pooled of each. */
typedef struct {
    const uint8_t *pixels;
    const int32_t *ids, *positions, *groups, *ends, *back, *texts, *pooled;
    long count, rows, group_count, length, longest;
    float *out, *watched; /* watched: the rows behind each layer and the pooled ones behind the last, or NULL */
} Call;

/* Rows that go through a layer together, and the sequences that they are of: images or groups. */
typedef struct {
    long row, rows, sequence, sequences;
} Part;

/* Who works with whom on a step, and in what memory. */
typedef struct {
    Team *team;
    char *scratch;
    void *values, *hidden; /* of the rows of a part: what goes into GEMMs, and what comes out of fc1 */
    uint8_t *bytes;        /* of int8: what goes into its GEMMs */
    void *qkv[2];          /* queries, keys and values of layers of even and of odd number: of texts all rows, the same for
                              all; of images one place for both, for the rows of a part */
} Workspace;

/* What a call works in. Rows lie `step` values apart. */
typedef struct {
    long step, hidden_step, qkv_step, count; /* count: rows in all */
    long parts, images; /* parts that threads take alone, or 0; of images so many in each, and all share the rest */
    Part *shares;         /* the parts of texts */
    _Atomic long *passed; /* how many layers each of them is through */
    float *rows;          /* [count, width] */
    float *embedded;      /* [count, width]: of images the patches */
    float *pooled, *query; /* [sequences, width] */
    float *folded;         /* [sequences, heads, full]: queries through keys; width filled up to whole vectors */
    int32_t *owned;        /* [groups, length]: the row that each place is the one to compute, or -1 */
    long distinct;         /* tokens in their positions that differ */
    int32_t *firsts;       /* [distinct]: the first row of each */
    int32_t *twins;        /* [groups, length]: which of them each place has */
    char *memory;
    size_t size;
    Workspace *workspaces; /* two of each thread: with all others, and alone */
    Team *alone;
} Buffers;

typedef struct Tower {
    Facts facts;
    Format format, inner; /* of floats (F32 or BF16), and of the maps of all layers but the last */
    const InstructionSet *set;
    Linear patches, keys, values, projection; /* keys and values: of the last layer's first head */
    const float *tokens, *positions, *cls_token, *norm_pre[2], *norm_post[2];
    const float *folded; /* [heads, full]: of an attention pooling, as in Buffers */
    long length;         /* rows of each sequence; 0 where texts come packed */
    Layer *layers;
    atomic_int broken; /* of int8: whether the call met NaN or Inf */

    Team team;
    Pool pool;
    const Call *call;
    Buffers buffers;

    pthread_mutex_t turn; /* held through a call */
    atomic_int busy;      /* whether it is, for a fork */
    atomic_int closed;
    struct Tower *next, *previous; /* in the list of all */
} Tower;

/* Find all parts of packed weights in a body of so many bytes; what is wrong with them, or NULL. */
const char *read_weights(Tower *tower, const void *body, size_t size);

/* A product of sizes, or MOST where it is larger: some such can still be added up. */
#define MOST ((size_t)PTRDIFF_MAX / 64)
size_t multiply_sizes(size_t one, size_t other);

/* Memory for a call, kept from the one before if it is large enough, and who does what; 0 where there is not enough.
 * `length`: of the longest sequence; `rows`: in all. */
int reserve(Tower *tower, const Call *call, long length, long rows);

void free_memory(Buffers *buffers);

/* What thread `me` does of the call. */
void run_layers(Tower *tower, const Call *call, int me);

#define BLOCK 208  /* rows of a task: with a panel they stay in a core's second-level cache */
#define DEPTH 1024 /* words of a row, at most, that are multiplied before the next part of a panel */
#define FEW 8      /* rows that a task of a step over rows takes */

#endif
