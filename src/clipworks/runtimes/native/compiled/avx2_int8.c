/* int8 with AVX2, whose own product of bytes (vpmaddubsw) loses what exceeds 16 bits: bytes are widened to 16 bits first, so
 * that sums are exact. A word is two pairs, of its even and of its odd bytes. */
#include "targets.h"
#ifdef AVX2
BEGIN_TARGET(AVX2)
#include "avx2.h"

typedef struct {
    __m256i even, odd;
} Pairs;

INLINE Pairs widen_signed(const uint32_t *from)
{
    __m256i words = _mm256_loadu_si256((const __m256i *)from);
    return (Pairs){_mm256_srai_epi16(_mm256_slli_epi16(words, 8), 8), _mm256_srai_epi16(words, 8)};
}

INLINE Pairs widen_unsigned(const uint32_t *from)
{
    __m256i word = _mm256_set1_epi32((int)*from);
    return (Pairs){_mm256_and_si256(word, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(word, 8)};
}

#define FORMAT INT8
#define MR 4
#define VECTORS 2
typedef int32_t Sums __attribute__((vector_size(32)));
typedef Pairs Words, Left;
#define ZERO_SUMS (Sums) _mm256_setzero_si256()
#define LOAD_SUMS(from) (Sums) _mm256_loadu_si256((const __m256i *)(from))
#define STORE_SUMS(to, sums) _mm256_storeu_si256((__m256i *)(to), (__m256i)(sums))
#define FLOAT_SUMS(from) _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(from)))
#define LOAD_WORDS(from) widen_signed(from)
#define LOAD_LEFT(from) widen_unsigned(from)
#define MULTIPLY(sums, left, right)                                                                                    \
    (sums) + (Sums)_mm256_madd_epi16((left).even, (right).even) + (Sums)_mm256_madd_epi16((left).odd, (right).odd)
#include "gemm_template.h"
#include "quantize_template.h"
END_TARGET

const Kernels avx2_int8 = {
    .name = "avx2",
    .gemm = gemm_panel,
    .quantize = quantize,
    .part_rows = PART_ROWS,
};
#endif
