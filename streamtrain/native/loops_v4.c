/* The loops for x86-64-v4. */

#if defined(__x86_64__)
#include <immintrin.h>

#include "loops.h"

#define ISA(name) name##_v4
#define ISA_V4
#define TABLE loops_v4
#define NAME "v4"
#define VECTOR 64

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt")
#endif

#include "loops.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int not_this_processor; /* C does not allow an empty file */
#endif
