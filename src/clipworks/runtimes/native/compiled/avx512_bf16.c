/* bf16 with AVX-512. */
#include "targets.h"
#ifdef AVX512
BEGIN_TARGET(AVX512 ",avx512bf16")
#include "avx512_bf16.h"
END_TARGET

const Kernels avx512_bf16 = {
    .name = "avx512_bf16",
    .gemm = gemm_panel,
    .normalize = normalize,
    .convert = convert,
    .center = center,
    .attend = attend,
    .part_rows = PART_ROWS,
};
#endif
