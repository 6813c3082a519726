/* int8 with AMX: tiles of 16 rows and 64 bytes. */
#include "targets.h"
#ifdef AVX512
BEGIN_TARGET(AVX512 ",avx512vnni,amx-tile,amx-int8")
#include "avx512_int8.h"
#define MULTIPLY_TILES _tile_dpbusd
#include "amx_gemm_template.h"
END_TARGET

const Kernels amx_int8 = {
    .name = "amx",
    .gemm = gemm_tiles,
    .part_rows = TILE_PART_ROWS,
    .quantize = quantize,
};
#endif
