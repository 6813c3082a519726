/* GEMM in tiles; a file of AMX includes this behind AVX-512's GEMM of the same format, which takes the words that fill no
 * tile, and the epilogue. MULTIPLY_TILES adds the products of two tiles to a third.
 *
 * The micro-kernel is 32 x 48: tiles 0 to 2 are the sums of the upper rows, 3 to 5 of the lower ones, 6 is a tile of rows
 * and 7 one of the panel.
 */

#define TILE 16 /* rows of a tile, and words of each */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;

/* Sums and rows' tiles of so many rows. */
INLINE void configure_tiles(long rows)
{
    TileConfig config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 4 * TILE;
        config.rows[i] = (uint8_t)(i < 7 ? rows : TILE);
    }
    __asm__ volatile("" : : "r"(&config) : "memory"); /* compilers take it that 8 bytes are read */
    _tile_loadconfig(&config);
}

/* Each panel's tile meets the upper and the lower rows; of those, the one that it met last comes first with the next. */
#define LOAD_ROWS(lower) _tile_loadd(6, a + (lower) * TILE * gemm->a_step + k, a_bytes)
#define LOAD_PANEL(j) _tile_loadd(7, b + k * gemm->b_step + (j) * TILE, b_bytes)
#define LOAD_TILE(tile, lower, j)                                                                                      \
    do {                                                                                                               \
        if (gemm->add)                                                                                                 \
            _tile_loadd(tile, sums + (lower) * TILE * gemm->sums_step + (j) * TILE, sums_bytes);                       \
        else                                                                                                           \
            _tile_zero(tile);                                                                                          \
    } while (0)
#define STORE_TILE(tile, lower, j) _tile_stored(tile, sums + (lower) * TILE * gemm->sums_step + (j) * TILE, sums_bytes)

/* One or two tiles of rows by one to three tiles of columns, over whole tiles of words. */
INLINE void multiply_tiles(const Gemm *gemm, long words, const char *ahead, long pace, const int both, const int columns)
{
    const uint32_t *a = gemm->a, *b = gemm->b;
    float *sums = gemm->sums;
    __asm__ volatile("" : : : "memory"); /* nor do they know that tiles are loaded from memory */
    const long a_bytes = gemm->a_step * 4, b_bytes = gemm->b_step * 4, sums_bytes = gemm->sums_step * 4;
    LOAD_TILE(0, 0, 0);
    if (columns > 1)
        LOAD_TILE(1, 0, 1);
    if (columns > 2)
        LOAD_TILE(2, 0, 2);
    if (both) {
        LOAD_TILE(3, 1, 0);
        if (columns > 1)
            LOAD_TILE(4, 1, 1);
        if (columns > 2)
            LOAD_TILE(5, 1, 2);
    }
    for (long k = 0; k < words; k += TILE) {
        for (long line = 0; line < TILE * pace; line += ALIGNMENT)
            __builtin_prefetch(ahead + k * pace + line, 0, 2);
        LOAD_PANEL(0);
        LOAD_ROWS(0);
        MULTIPLY_TILES(0, 6, 7);
        if (!both) {
            if (columns > 1) {
                LOAD_PANEL(1);
                MULTIPLY_TILES(1, 6, 7);
            }
            if (columns > 2) {
                LOAD_PANEL(2);
                MULTIPLY_TILES(2, 6, 7);
            }
            continue;
        }
        LOAD_ROWS(1);
        MULTIPLY_TILES(3, 6, 7);
        if (columns > 1) {
            LOAD_PANEL(1);
            MULTIPLY_TILES(4, 6, 7);
            LOAD_ROWS(0);
            MULTIPLY_TILES(1, 6, 7);
        }
        if (columns > 2) {
            LOAD_PANEL(2);
            MULTIPLY_TILES(2, 6, 7);
            LOAD_ROWS(1);
            MULTIPLY_TILES(5, 6, 7);
        }
    }
    STORE_TILE(0, 0, 0);
    if (columns > 1)
        STORE_TILE(1, 0, 1);
    if (columns > 2)
        STORE_TILE(2, 0, 2);
    if (both) {
        STORE_TILE(3, 1, 0);
        if (columns > 1)
            STORE_TILE(4, 1, 1);
        if (columns > 2)
            STORE_TILE(5, 1, 2);
    }
}

static void multiply_two(const Gemm *gemm, long words, const char *ahead, long pace, long columns)
{
    switch (columns) {
    case 1:
        multiply_tiles(gemm, words, ahead, pace, 1, 1);
        return;
    case 2:
        multiply_tiles(gemm, words, ahead, pace, 1, 2);
        return;
    default:
        multiply_tiles(gemm, words, ahead, pace, 1, 3);
    }
}

static void multiply_one(const Gemm *gemm, long words, const char *ahead, long pace, long columns)
{
    switch (columns) {
    case 1:
        multiply_tiles(gemm, words, ahead, pace, 0, 1);
        return;
    case 2:
        multiply_tiles(gemm, words, ahead, pace, 0, 2);
        return;
    default:
        multiply_tiles(gemm, words, ahead, pace, 0, 3);
    }
}

/* Words of the panel that stay in the first-level cache while all rows pass by. */
#define TILE_BLOCK 128

/* A part of a panel's depth, `last` where nothing follows: 32 rows at a time, then 16, then what is left. */
static void multiply_block(const Gemm *part, long rows, long columns, long words, int last)
{
    const long tiles = round_up(columns, FILL) / TILE, steps = (rows + 2 * TILE - 1) / (2 * TILE);
    const long rest = part->words - words;
    const long pace = part->ahead == NULL ? 0 : tiles * TILE * 4 / steps; /* all in all as much as this part */
    const int reuse = last && part->epilogue != NULL && !part->add;
    const char *ahead = part->ahead == NULL ? (const char *)part->a : part->ahead;
    Gemm tile = *part;
    configure_tiles(rows < TILE ? rows : TILE);
    for (long done = 0, count; done < rows; done += count, ahead += pace * words) {
        const long left = rows - done;
        count = left >= 2 * TILE ? 2 * TILE : left >= TILE ? TILE : left;
        if (count < TILE && done)
            configure_tiles(count);
        if (count > TILE)
            multiply_two(&tile, words, ahead, pace, tiles);
        else
            multiply_one(&tile, words, ahead, pace, tiles);
        if (rest) {
            const Gemm words_left = {.a = tile.a + words, .b = tile.b + words * tile.b_step, .a_step = tile.a_step,
                                     .b_step = tile.b_step, .words = rest, .sums = tile.sums,
                                     .sums_step = tile.sums_step, .add = 1};
            gemm_panel(&words_left, count, columns);
        }
        if (last && part->epilogue != NULL)
            finish(&tile, count, columns);
        tile.a += count * tile.a_step;
        tile.row += count;
        if (!reuse)
            tile.sums += count * tile.sums_step;
    }
}

static void gemm_tiles(const Gemm *gemm, long rows, long columns)
{
    const long whole = gemm->words / TILE * TILE, blocks = (whole + TILE_BLOCK - 1) / TILE_BLOCK;
    if (!whole) {
        gemm_panel(gemm, rows, columns);
        return;
    }
    for (long i = 0; i < blocks; i++) {
        const long from = whole / TILE * i / blocks * TILE, until = whole / TILE * (i + 1) / blocks * TILE;
        const int last = i + 1 == blocks;
        Gemm part = *gemm;
        part.a += from;
        part.b += from * gemm->b_step;
        part.words = (last ? gemm->words : until) - from;
        part.add = gemm->add || i > 0;
        if (gemm->ahead != NULL)
            part.ahead = gemm->ahead + from * gemm->b_step * 4;
        multiply_block(&part, rows, columns, until - from, last);
    }
    _tile_release();
}
