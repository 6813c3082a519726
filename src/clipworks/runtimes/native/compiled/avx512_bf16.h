/* bf16 with AVX512_BF16, whose sums are f32: 8 x 48 of them fill 24 of the 32 registers. */
#define HAS_BF16
#include "avx512.h"

#define FORMAT BF16
#define IS_BF16 1
#define VALUE uint16_t
#define MR 8
#define VECTORS 3
typedef __m512 Sums;
typedef __m512i Words, Left;
#define ZERO_SUMS _mm512_setzero_ps()
#define LOAD_SUMS(from) _mm512_loadu_ps(from)
#define STORE_SUMS(to, sums) _mm512_storeu_ps(to, sums)
#define FLOAT_SUMS(from) _mm512_loadu_ps(from)
#define LOAD_WORDS(from) _mm512_loadu_si512(from)
#define LOAD_LEFT(from) _mm512_set1_epi32((int)*(from))
#define MULTIPLY(sums, left, right) _mm512_dpbf16_ps(sums, (__m512bh)(left), (__m512bh)(right))
#include "gemm_template.h"
#include "rows_template.h"
