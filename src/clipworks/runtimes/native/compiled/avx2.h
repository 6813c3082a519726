/* Vectors of 8 f32 values with AVX2 and FMA; what _n names takes the first n values, of which there may be none. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#define LANES 8
#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")

typedef __m256 Vector;

/* All bits set in the first n numbers. */
INLINE __m256i first_n(long n)
{
    static const int32_t bits[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(bits + LANES - (n < 0 ? 0 : n > LANES ? LANES : n)));
}

INLINE Vector v_set(float x) { return _mm256_set1_ps(x); }
INLINE Vector v_load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void v_store(float *to, Vector x) { _mm256_storeu_ps(to, x); }
INLINE Vector v_fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Vector v_fnma(Vector a, Vector b, Vector c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE Vector v_max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
INLINE Vector v_min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
INLINE Vector v_abs(Vector x) { return _mm256_andnot_ps(v_set(-0.0f), x); }
INLINE Vector v_sqrt(Vector x) { return _mm256_sqrt_ps(x); }
INLINE Vector v_round(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Vector v_first(Vector x, long n) { return _mm256_and_ps(x, _mm256_castsi256_ps(first_n(n))); }

INLINE Vector v_load_n(const float *from, long n)
{
    return n >= LANES ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, first_n(n));
}

INLINE void v_store_n(float *to, Vector x, long n)
{
    if (n >= LANES)
        _mm256_storeu_ps(to, x);
    else
        _mm256_maskstore_ps(to, first_n(n), x);
}

/* x times 2 to a whole power, in two halves so that small results round to what they are, or to 0. */
INLINE Vector v_scale(Vector x, Vector power)
{
    __m256i whole = _mm256_cvtps_epi32(_mm256_max_ps(power, v_set(-252.0f))), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    x = x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    return x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
}

/* One step of Newton's brings the processor's 12 bits to 23. */
INLINE Vector v_reciprocal(Vector x)
{
    Vector y = _mm256_rcp_ps(x);
    return y * v_fnma(x, y, v_set(2.0f));
}

INLINE float v_sum(Vector x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

INLINE float v_largest(Vector x)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

/* x - half where x is positive, and half elsewhere. */
INLINE Vector v_mirror(Vector x, Vector half)
{
    return _mm256_blendv_ps(half, x - half, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

/* y, but 0 where x is -Inf. */
INLINE Vector v_unless_hidden(Vector x, Vector y)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, v_set(-INFINITY), _CMP_NEQ_UQ), y);
}

/* x, but -Inf where there is no n-th value or `ends`, unless it is NULL, is not beyond `place`. */
INLINE Vector v_hide(Vector x, long n, const int32_t *ends, long place)
{
    __m256i seen = first_n(n);
    if (ends != NULL)
        seen = _mm256_and_si256(seen, _mm256_cmpgt_epi32(_mm256_maskload_epi32(ends, seen), _mm256_set1_epi32((int)place)));
    return _mm256_blendv_ps(v_set(-INFINITY), x, _mm256_castsi256_ps(seen));
}

INLINE Vector v_load_u8(const uint8_t *from, long n)
{
    uint64_t bytes = 0;
    memcpy(&bytes, from, n >= LANES ? LANES : n > 0 ? (size_t)n : 0);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes)));
}

/* Values to bytes, and whether one of them is NaN or Inf. */
INLINE int v_quantize(uint8_t *to, Vector x, long n, const Quantizer *quantizer)
{
    Vector scaled = _mm256_min_ps(x * v_set(quantizer->inverse), v_set(1e6f));
    __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(quantizer->zero_point));
    __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs));
    memcpy(to, &bytes, n >= LANES ? LANES : n > 0 ? (size_t)n : 0);
    /* NaN and Inf are what minus itself is not 0. */
    return _mm256_movemask_ps(v_first(_mm256_cmp_ps(x - x, _mm256_setzero_ps(), _CMP_NEQ_UQ), n)) != 0;
}

/* bf16, which AVX2 has no instructions for, is what int8's towers may keep between two maps: never here. */
INLINE Vector v_load_bf16(const uint16_t *from, long n)
{
    (void)from, (void)n;
    return v_set(0.0f);
}

INLINE void v_store_bf16(uint16_t *to, Vector x, long n)
{
    (void)to, (void)x, (void)n;
}

/* Transpose LANES rows of LANES words. Rows from `rows` on and words from `words` on count as zero. */
INLINE void v_transpose(const uint32_t *const from[LANES], long rows, long words, uint32_t *to, long step)
{
    Vector a[LANES], b[LANES];
    UNROLL for (int i = 0; i < LANES; i++)
        a[i] = i < rows ? v_load_n((const float *)from[i], words) : v_set(0.0f);
    UNROLL for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    UNROLL for (int j = 0; j < 4; j++) { /* each half holds a word of four rows */
        b[j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x20);
        b[4 + j] = _mm256_permute2f128_ps(a[j], a[4 + j], 0x31);
    }
    UNROLL for (int i = 0; i < LANES; i++)
        if (i < words)
            v_store((float *)to + i * step, b[i]);
}

#include "vector_math.h"
