/* Vectors of 16 f32 values with AVX-512; what _n names takes the first n values, of which there may be none. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#define LANES 16
#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")

typedef __m512 Vector;

INLINE __mmask16 first_n(long n)
{
    return n >= LANES ? 0xFFFF : (__mmask16)((1u << (n < 0 ? 0 : n)) - 1);
}

INLINE Vector v_set(float x) { return _mm512_set1_ps(x); }
INLINE Vector v_load(const float *from) { return _mm512_loadu_ps(from); }
INLINE Vector v_load_n(const float *from, long n) { return _mm512_maskz_loadu_ps(first_n(n), from); }
INLINE void v_store(float *to, Vector x) { _mm512_storeu_ps(to, x); }
INLINE void v_store_n(float *to, Vector x, long n) { _mm512_mask_storeu_ps(to, first_n(n), x); }
INLINE Vector v_fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Vector v_fnma(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE Vector v_max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
INLINE Vector v_min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
INLINE Vector v_abs(Vector x) { return _mm512_abs_ps(x); }
INLINE Vector v_sqrt(Vector x) { return _mm512_sqrt_ps(x); }
INLINE Vector v_round(Vector x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
INLINE Vector v_scale(Vector x, Vector power) { return _mm512_scalef_ps(x, power); }
INLINE Vector v_reciprocal(Vector x) { return _mm512_rcp14_ps(x); }
INLINE float v_sum(Vector x) { return _mm512_reduce_add_ps(x); }
INLINE float v_largest(Vector x) { return _mm512_reduce_max_ps(x); }
INLINE Vector v_first(Vector x, long n) { return _mm512_maskz_mov_ps(first_n(n), x); }

/* x - half where x is positive, and half elsewhere. */
INLINE Vector v_mirror(Vector x, Vector half)
{
    return _mm512_mask_sub_ps(half, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), x, half);
}

/* y, but 0 where x is -Inf. */
INLINE Vector v_unless_hidden(Vector x, Vector y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v_set(-INFINITY), _CMP_NEQ_UQ), y);
}

/* x, but -Inf where there is no n-th value or `ends`, unless it is NULL, is not beyond `place`. */
INLINE Vector v_hide(Vector x, long n, const int32_t *ends, long place)
{
    __mmask16 seen = first_n(n);
    if (ends != NULL)
        seen = _mm512_mask_cmpgt_epi32_mask(seen, _mm512_maskz_loadu_epi32(seen, ends), _mm512_set1_epi32((int)place));
    return _mm512_mask_mov_ps(v_set(-INFINITY), seen, x);
}

INLINE Vector v_load_u8(const uint8_t *from, long n)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_n(n), from)));
}

/* Values to bytes, and whether one of them is NaN or Inf. */
INLINE int v_quantize(uint8_t *to, Vector x, long n, const Quantizer *quantizer)
{
    const __mmask16 mask = first_n(n);
    Vector scaled = _mm512_min_ps(x * v_set(quantizer->inverse), v_set(1e6f));
    __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), _mm512_set1_epi32(quantizer->zero_point));
    _mm_mask_storeu_epi8(to, mask, _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512())));
    return _mm512_mask_fpclass_ps_mask(mask, x, 0x99) != 0; /* NaN of both kinds, Inf of both signs */
}

/* bf16 and back, without the instructions for it: the nearest, of two equally near ones the even one. NaN stays NaN:
 * added to, its bits could become a number's. */
INLINE __m256i v_round_bf16(Vector x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), even);
    bits = _mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

INLINE Vector v_load_bf16(const uint16_t *from, long n)
{
    __m256i halves = _mm256_maskz_loadu_epi16(first_n(n), from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE void v_store_bf16(uint16_t *to, Vector x, long n)
{
#ifdef HAS_BF16
    _mm256_mask_storeu_epi16(to, first_n(n), (__m256i)_mm512_cvtneps_pbh(x));
#else
    _mm256_mask_storeu_epi16(to, first_n(n), v_round_bf16(x));
#endif
}

/* Two rows of bf16 as one of words: the first in the lower halves. */
INLINE void v_interleave(const uint16_t *even, const uint16_t *odd, long n, uint32_t *to)
{
    __m256i low = _mm256_maskz_loadu_epi16(first_n(n), even), high = _mm256_setzero_si256();
    if (odd != NULL)
        high = _mm256_maskz_loadu_epi16(first_n(n), odd);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
}

/* Transpose LANES rows of LANES words. Rows from `rows` on and words from `words` on count as zero. */
INLINE void v_transpose(const uint32_t *const from[LANES], long rows, long words, uint32_t *to, long step)
{
    __m512i a[LANES], b[LANES];
    __mmask16 mask = first_n(words);
    UNROLL for (int i = 0; i < LANES; i++)
        a[i] = i < rows ? _mm512_maskz_loadu_epi32(mask, from[i]) : _mm512_setzero_si512();
    UNROLL for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    /* a[4 g + j] holds, in each quarter q, word 4 q + j of rows 4 g to 4 g + 3. */
    UNROLL for (int j = 0; j < 4; j++) {
        __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x44), high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xEE);
        __m512i low2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x44);
        __m512i high2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xEE);
        b[j] = _mm512_shuffle_i32x4(low, low2, 0x88);
        b[4 + j] = _mm512_shuffle_i32x4(low, low2, 0xDD);
        b[8 + j] = _mm512_shuffle_i32x4(high, high2, 0x88);
        b[12 + j] = _mm512_shuffle_i32x4(high, high2, 0xDD);
    }
    UNROLL for (int i = 0; i < LANES; i++)
        if (i < words)
            _mm512_storeu_si512(to + i * step, b[i]);
}

#include "vector_math.h"
