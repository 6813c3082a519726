/* int8 with AVX-VNNI: unsigned bytes times signed ones, in sums of 32 bits. */
#include "targets.h"
#ifdef AVX2
BEGIN_TARGET(AVX2 ",avxvnni")
#include "avx2.h"

#define FORMAT INT8
#define MR 6
#define VECTORS 2
typedef int32_t Sums __attribute__((vector_size(32)));
typedef __m256i Words, Left;
#define ZERO_SUMS (Sums) _mm256_setzero_si256()
#define LOAD_SUMS(from) (Sums) _mm256_loadu_si256((const __m256i *)(from))
#define STORE_SUMS(to, sums) _mm256_storeu_si256((__m256i *)(to), (__m256i)(sums))
#define FLOAT_SUMS(from) _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(from)))
#define LOAD_WORDS(from) _mm256_loadu_si256((const __m256i *)(from))
#define LOAD_LEFT(from) _mm256_set1_epi32((int)*(from))
#define MULTIPLY(sums, left, right) (Sums) _mm256_dpbusd_avx_epi32((__m256i)(sums), left, right)
#include "gemm_template.h"
#include "quantize_template.h"
END_TARGET

const Kernels avx2_vnni_int8 = {
    .name = "avx2_vnni",
    .gemm = gemm_panel,
    .quantize = quantize,
    .part_rows = PART_ROWS,
};
#endif
