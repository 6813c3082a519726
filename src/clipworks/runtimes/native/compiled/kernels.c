/* The instruction sets that native has kernels for, and whether the processor has them. */
#include "targets.h"

#if COMPILED

#ifdef AVX2
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

static int always(void)
{
    return 1;
}

#ifdef AVX2

static int find_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* What no compiler that is in use asks for by name: a bit of CPUID's leaf 7. */
static int find_bit(unsigned subleaf, int in_edx, int bit)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, subleaf, &a, &b, &c, &d))
        return 0;
    return (in_edx ? d : a) >> bit & 1;
}

static int find_avx2_vnni(void)
{
    return find_avx2() && find_bit(1, 0, 4);
}

static int find_avx512(void)
{
    return find_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static int find_avx512_vnni(void)
{
    return find_avx512() && __builtin_cpu_supports("avx512vnni");
}

static int find_avx512_bf16(void)
{
    return find_avx512_vnni() && __builtin_cpu_supports("avx512bf16");
}

/* Linux lets a process use tiles, and what it starts, once it has asked; that cannot be undone. */
#if defined(__linux__) && defined(SYS_arch_prctl)
enum { GET_SUPPORTED = 0x1021, REQUEST = 0x1023, TILE_DATA = 18 };

static int find_amx(void)
{
    enum { BF16_BIT = 22, TILE_BIT = 24, INT8_BIT = 25 };
    uint64_t supported = 0;
    return find_avx512_bf16() && find_bit(0, 1, BF16_BIT) && find_bit(0, 1, TILE_BIT) && find_bit(0, 1, INT8_BIT) &&
           syscall(SYS_arch_prctl, GET_SUPPORTED, &supported) == 0 && (supported >> TILE_DATA & 1);
}

static int enable_amx(void)
{
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
static int find_amx(void)
{
    return 0;
}

static int enable_amx(void)
{
    return 0;
}
#endif

#endif

const InstructionSet instruction_sets[] = {
    {"scalar", always, NULL, {&scalar_f32, &scalar_bf16, &scalar_int8}},
#ifdef AVX2
    {"avx2", find_avx2, NULL, {&avx2_f32, NULL, &avx2_int8}},
    {"avx2_vnni", find_avx2_vnni, NULL, {&avx2_f32, NULL, &avx2_vnni_int8}},
    {"avx512", find_avx512, NULL, {&avx512_f32, NULL, &avx2_int8}},
    {"avx512_vnni", find_avx512_vnni, NULL, {&avx512_f32, NULL, &avx512_int8}},
    {"avx512_bf16", find_avx512_bf16, NULL, {&avx512_f32, &avx512_bf16, &avx512_int8}},
    {"amx", find_amx, enable_amx, {&avx512_f32, &amx_bf16, &amx_int8}},
#endif
    {NULL, NULL, NULL, {NULL, NULL, NULL}},
};

#endif
