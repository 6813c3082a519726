/* f32 with AVX-512: 8 x 48 sums fill 24 of the 32 registers. */
#include "targets.h"
#ifdef AVX512
BEGIN_TARGET(AVX512)
#include "avx512.h"

#define FORMAT F32
#define IS_BF16 0
#define VALUE float
#define MR 8
#define VECTORS 3
typedef __m512 Sums, Words, Left;
#define ZERO_SUMS _mm512_setzero_ps()
#define LOAD_SUMS(from) _mm512_loadu_ps(from)
#define STORE_SUMS(to, sums) _mm512_storeu_ps(to, sums)
#define FLOAT_SUMS(from) _mm512_loadu_ps(from)
#define LOAD_WORDS(from) _mm512_castsi512_ps(_mm512_loadu_si512(from))
#define LOAD_LEFT(from) _mm512_castsi512_ps(_mm512_set1_epi32((int)*(from)))
#define MULTIPLY(sums, left, right) _mm512_fmadd_ps(left, right, sums)
#include "gemm_template.h"
#include "rows_template.h"
END_TARGET

const Kernels avx512_f32 = {
    .name = "avx512",
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
