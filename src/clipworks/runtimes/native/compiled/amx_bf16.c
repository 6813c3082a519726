/* bf16 with AMX: tiles of 16 rows and 64 bytes. */
#include "targets.h"
#ifdef AVX512
#define GEMM gemm_tiles
static void gemm_tiles(const Gemm *gemm, long rows, long columns);
BEGIN_TARGET(AVX512 ",avx512bf16,amx-tile,amx-bf16")
#include "avx512_bf16.h"
#define MULTIPLY_TILES _tile_dpbf16ps
#include "amx_gemm_template.h"
END_TARGET

const Kernels amx_bf16 = {
    .name = "amx",
    .gemm = gemm_tiles,
    .part_rows = TILE_PART_ROWS,
    .normalize = normalize,
    .convert = convert,
    .center = center,
    .attend = attend,
};
#endif
