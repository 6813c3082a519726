/* int8 with AVX512_VNNI: unsigned bytes times signed ones, in sums of 32 bits. */
#include "avx512.h"

#define FORMAT INT8
#define UNROLL_ROWS _Pragma("GCC unroll 8")
#define MR 8
#define VECTORS 3
/* Of __m512i, whose numbers are of 64 bits, gcc keeps two copies in the inner loop, and many in memory. */
typedef int32_t Sums __attribute__((vector_size(64)));
typedef __m512i Words, Left;
#define ZERO_SUMS (Sums) _mm512_setzero_si512()
#define LOAD_SUMS(from) (Sums) _mm512_loadu_si512(from)
#define STORE_SUMS(to, sums) _mm512_storeu_si512(to, (__m512i)(sums))
#define FLOAT_SUMS(from) _mm512_cvtepi32_ps(_mm512_loadu_si512(from))
#define LOAD_WORDS(from) _mm512_loadu_si512(from)
#define LOAD_LEFT(from) _mm512_set1_epi32((int)*(from))
#define MULTIPLY(sums, left, right) (Sums) _mm512_dpbusd_epi32((__m512i)(sums), left, right)
#include "gemm_template.h"
#include "quantize_template.h"
