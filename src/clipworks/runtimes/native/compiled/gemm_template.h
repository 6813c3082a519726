/* GEMM over a packed panel; a file of an instruction set and a format includes this once.
 *
 * It defines, before: x, a name of its own; FORMAT; MR, the rows of the micro-kernel, and VECTORS, its vectors of
 * columns; Sums, the type of a vector of sums, with LOAD_SUMS, STORE_SUMS, ZERO_SUMS and FLOAT_SUMS, which makes f32 of
 * it; Words, a vector of words, with LOAD_WORDS; Left, what a row's word becomes, with LOAD_LEFT; and
 * MULTIPLY(sums, left, right), which adds the products of all values of two words to each sum.
 */

#define PASS (VECTORS * LANES) /* columns that the micro-kernel takes at once */
#define DEPTH_BLOCK 384

/* Columns of a panel before its last pass, of so many vectors. */
INLINE long columns_before(long columns, long vectors)
{
    return round_up(columns, FILL) - vectors * LANES;
}

/* The micro-kernel: MR x PASS at most. The sums are registers; each word of depth is loaded once. */
INLINE void micro(const Gemm *gemm, const char *ahead, long pace, const int rows, const int vectors)
{
    const uint32_t *a = gemm->a, *b = gemm->b;
    const long a_step = gemm->a_step, b_step = gemm->b_step, words = gemm->words, sums_step = gemm->sums_step;
    float *kept = gemm->sums;
    Sums sums[MR][VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            sums[i][j] = gemm->add ? LOAD_SUMS(kept + i * sums_step + j * LANES) : ZERO_SUMS;
    for (long k = 0; k < words; k++) {
        Words right[VECTORS];
        UNROLL for (int j = 0; j < vectors; j++)
            right[j] = LOAD_WORDS(b + k * b_step + j * LANES);
        __builtin_prefetch(ahead + k * pace, 0, 2);
        UNROLL for (int i = 0; i < rows; i++) {
            Left left = LOAD_LEFT(a + i * a_step + k);
            UNROLL for (int j = 0; j < vectors; j++)
                sums[i][j] = MULTIPLY(sums[i][j], left, right[j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            STORE_SUMS(kept + i * sums_step + j * LANES, sums[i][j]);
}

/* It for each number of rows and of vectors. */
typedef void Micro(const Gemm *, const char *, long);
#define ONE(rows, vectors)                                                                                             \
    static void micro_##rows##x##vectors(const Gemm *gemm, const char *ahead, long pace)                         \
    {                                                                                                                  \
        micro(gemm, ahead, pace, rows, vectors);                                                                 \
    }
#if VECTORS == 3
#define EACH(rows) ONE(rows, 1) ONE(rows, 2) ONE(rows, 3)
#define LIST(rows) {micro_##rows##x1, micro_##rows##x2, micro_##rows##x3}
#else
#define EACH(rows) ONE(rows, 1) ONE(rows, 2)
#define LIST(rows) {micro_##rows##x1, micro_##rows##x2}
#endif
EACH(1) EACH(2) EACH(3) EACH(4)
#if MR >= 6
EACH(5) EACH(6)
#endif
#if MR >= 8
EACH(7) EACH(8)
#endif
static Micro *const micros[MR][VECTORS] = {
    LIST(1), LIST(2), LIST(3), LIST(4),
#if MR >= 6
    LIST(5), LIST(6),
#endif
#if MR >= 8
    LIST(7), LIST(8),
#endif
};
#undef ONE
#undef EACH
#undef LIST

#include "epilogue_template.h"

/* A part of a panel's depth and columns, `last` where nothing follows; its rows shared out evenly to calls of the
 * micro-kernel. Of what is read next, a line or more is prefetched with every word; where nothing is named, what is read
 * anyway. Where sums are all there after one call, each call may write them to the same place. */
INLINE void multiply_pass(const Gemm *part, long rows, long columns, long vectors, int last, int alone)
{
    const Epilogue *epilogue = last ? part->epilogue : NULL;
    const long tiles = (rows + MR - 1) / MR, least = rows / tiles, filled = round_up(columns, FILL);
    const long pace = part->ahead == NULL ? 0 : tiles < 3 ? 64 : (filled * 4 + tiles - 1) / tiles;
    const int reuse = alone && epilogue != NULL && !part->add;
    const float *added = NULL;
    const char *ahead = part->ahead;
    Gemm tile = *part;
    if (epilogue != NULL && epilogue->added != NULL)
        added = epilogue->added + part->row * epilogue->added_step + part->column;
    for (long i = 0; i < tiles; i++) {
        const long count = least + (i < rows - least * tiles);
        if (added != NULL)
            for (long j = 0; j < count; j++, added += epilogue->added_step)
                for (long k = 0; k < columns; k += FILL)
                    __builtin_prefetch(added + k, 0, 2);
        if (part->ahead == NULL)
            ahead = (const char *)tile.a;
        micros[count - 1][vectors - 1](&tile, ahead, pace);
        if (epilogue != NULL) {
            Gemm whole = tile;
            whole.sums -= columns_before(columns, vectors);
            finish(&whole, count, columns);
        }
        tile.a += count * tile.a_step;
        tile.row += count;
        if (!reuse)
            tile.sums += count * tile.sums_step;
        ahead += tile.words * pace;
    }
}

/* A panel. Where the micro-kernel takes a part of its columns, those of DEPTH_BLOCK words stay in the first-level cache
 * while all rows pass by. */
static void gemm_panel(const Gemm *gemm, long rows, long columns)
{
    const long filled = round_up(columns, FILL), block = filled > PASS ? DEPTH_BLOCK : gemm->words;
    for (long from = 0; from == 0 || from < gemm->words; from += block) {
        const long words = gemm->words - from < block ? gemm->words - from : block;
        for (long j = 0; j < filled; j += PASS) {
            Gemm part = *gemm;
            part.a += from;
            part.b += from * gemm->b_step + j;
            part.sums += j;
            part.words = words;
            part.add = gemm->add || from > 0;
            if (j > 0)
                part.ahead = NULL;
            else if (gemm->ahead != NULL)
                part.ahead = gemm->ahead + from * filled * 4;
            multiply_pass(&part, rows, columns, (filled - j < PASS ? filled - j : PASS) / LANES,
                          from + words == gemm->words && j + PASS >= filled, filled <= PASS);
        }
        if (!block)
            return;
    }
}
