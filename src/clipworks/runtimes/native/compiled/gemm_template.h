/* GEMM over a packed panel; a file of an instruction set and a format includes this once.
 *
 * It defines, before: x, a name of its own; FORMAT; MR, the rows of the micro-kernel, and VECTORS, its vectors of
 * columns; Sums, the type of a vector of sums, with LOAD_SUMS, STORE_SUMS, ZERO_SUMS and FLOAT_SUMS, which makes f32 of
 * it; Words, a vector of words, with LOAD_WORDS; Left, what a row's word becomes, with LOAD_LEFT; and
 * MULTIPLY(sums, left, right), which adds the products of all values of two words to each sum.
 */

#define PASS (VECTORS * LANES) /* columns that the micro-kernel takes at once */

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

/* A panel: its rows shared out evenly to calls of the micro-kernel. Of what is read next, a line or more is prefetched
 * with every word; where nothing is named, what is read anyway. */
static void gemm_panel(const Gemm *gemm, long rows, long columns)
{
    const Epilogue *epilogue = gemm->epilogue;
    const long tiles = (rows + MR - 1) / MR, least = rows / tiles, filled = round_up(columns, FILL);
    const long pace = gemm->ahead == NULL ? 0 : tiles < 3 ? 64 : (filled * 4 + tiles - 1) / tiles;
    const float *added = NULL;
    const char *ahead = gemm->ahead;
    Gemm tile = *gemm;
    if (epilogue != NULL && epilogue->added != NULL)
        added = epilogue->added + gemm->row * epilogue->added_step + gemm->column;
    for (long i = 0; i < tiles; i++) {
        const long count = least + (i < rows - least * tiles);
        if (added != NULL)
            for (long j = 0; j < count; j++, added += epilogue->added_step)
                for (long k = 0; k < columns; k += FILL)
                    __builtin_prefetch(added + k, 0, 2);
        if (gemm->ahead == NULL)
            ahead = (const char *)tile.a;
        Gemm pass = tile;
        for (long j = 0; j < filled; j += PASS, pass.b += PASS, pass.sums += PASS) {
            const long vectors = (filled - j < PASS ? filled - j : PASS) / LANES;
            micros[count - 1][vectors - 1](&pass, ahead, j ? 0 : pace);
        }
        if (epilogue != NULL)
            finish(&tile, count, columns);
        tile.a += count * tile.a_step;
        tile.row += count;
        if (epilogue == NULL || tile.add)
            tile.sums += count * tile.sums_step;
        ahead += tile.words * pace;
    }
}
