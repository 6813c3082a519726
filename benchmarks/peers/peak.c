/* The most multiply-adds a second of one core, by products of registers that no memory is waited for.
 *
 *     peak SECONDS    prints GFLOP/s (int8: G operations/s) in f32, bf16 and int8; 0 for what the processor lacks
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SUMS 24 /* more than latency times units, and as many as registers allow beside two factors */
#define TURNS 100000

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* The best of many short runs: the pace of a shared machine changes. */
#define MEASURE(name, isa, type, zero, add, operations)                                                                \
    __attribute__((target(isa), noinline)) static double name(double seconds)                                         \
    {                                                                                                                  \
        volatile int one = 0;                                                                                          \
        double best = 0;                                                                                               \
        __m512i a = _mm512_set1_epi32(one), b = _mm512_set1_epi32(one + one);                                          \
        type sums[SUMS];                                                                                               \
        for (double begin = now(); now() - begin < seconds;) {                                                         \
            _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++)                                                    \
            {                                                                                                          \
                sums[i] = zero;                                                                                        \
                __asm__ volatile("" : "+v"(sums[i])); /* or the compiler would see that all are alike */               \
            }                                                                                                          \
            double start = now();                                                                                      \
            for (int turn = 0; turn < TURNS; turn++) {                                                                 \
                _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++) sums[i] = add;                                 \
                __asm__ volatile("" : "+v"(a), "+v"(b));                                                               \
            }                                                                                                          \
            double rate = (double)TURNS * SUMS * (operations) / (now() - start) / 1e9;                                 \
            _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++) __asm__ volatile("" ::"v"(sums[i]));               \
            best = rate > best ? rate : best;                                                                          \
        }                                                                                                              \
        return best;                                                                                                   \
    }

MEASURE(measure_f32, "avx512f", __m512, _mm512_setzero_ps(),
        _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sums[i]), 32)
MEASURE(measure_bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
        _mm512_dpbf16_ps(sums[i], (__m512bh)a, (__m512bh)b), 64)
MEASURE(measure_int8, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(sums[i], a, b), 128)

int main(int count, char **words)
{
    double seconds = count > 1 ? atof(words[1]) : 1;
    __builtin_cpu_init();
    printf("%.1f", __builtin_cpu_supports("avx512f") ? measure_f32(seconds) : 0);
    printf(" %.1f", __builtin_cpu_supports("avx512bf16") ? measure_bf16(seconds) : 0);
    printf(" %.1f\n", __builtin_cpu_supports("avx512vnni") ? measure_int8(seconds) : 0);
    return 0;
}
