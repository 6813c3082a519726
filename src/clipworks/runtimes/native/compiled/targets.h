/* A file's instruction set, for gcc and for clang, whatever the rest of the module is compiled for. */
#include "kernels.h"

/* Older compilers know no AVX-VNNI or AMX; a module of theirs has the scalar kernels alone. */
#if COMPILED && defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define AVX2 "avx2,fma"
#if defined(__clang__) && __clang_major__ >= 18 && __clang_major__ <= 21 /* where it may have been switched off */
#define AVX512 "avx512f,avx512bw,avx512vl,avx512dq,fma,evex512"
#else
#define AVX512 "avx512f,avx512bw,avx512vl,avx512dq,fma"
#endif
#endif

#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define BEGIN_TARGET(set) PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define BEGIN_TARGET(set) PRAGMA(GCC push_options) PRAGMA(GCC target(set))
#define END_TARGET PRAGMA(GCC pop_options)
#endif
