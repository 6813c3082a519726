/* int8 with AVX-512. */
#include "targets.h"
#ifdef AVX512
BEGIN_TARGET(AVX512 ",avx512vnni")
#include "avx512_int8.h"
END_TARGET

const Kernels avx512_int8 = {
    .name = "avx512_vnni",
    .gemm = gemm_panel,
    .quantize = quantize,
    .part_rows = PART_ROWS,
};
#endif
