/* f32 with AVX2 and FMA: 6 x 16 sums fill 12 of the 16 registers. */
#include "targets.h"
#ifdef AVX2
BEGIN_TARGET(AVX2)
#include "avx2.h"

#define FORMAT F32
#define IS_BF16 0
#define VALUE float
#define MR 6
#define VECTORS 2
typedef __m256 Sums, Words, Left;
#define ZERO_SUMS _mm256_setzero_ps()
#define LOAD_SUMS(from) _mm256_loadu_ps(from)
#define STORE_SUMS(to, sums) _mm256_storeu_ps(to, sums)
#define FLOAT_SUMS(from) _mm256_loadu_ps(from)
#define LOAD_WORDS(from) _mm256_loadu_ps((const float *)(from))
#define LOAD_LEFT(from) _mm256_broadcast_ss((const float *)(from))
#define MULTIPLY(sums, left, right) _mm256_fmadd_ps(left, right, sums)
#include "gemm_template.h"
#include "rows_template.h"
END_TARGET

const Kernels avx2_f32 = {
    .name = "avx2",
    .gemm = gemm_panel,
    .normalize = normalize,
    .convert = convert,
    .center = center,
    .attend = attend,
    .pool = pool,
    .add = add,
    .part_rows = PART_ROWS,
};
#endif
