/* The loops for x86-64-v3. */

#if defined(__x86_64__)
#include <immintrin.h>

#include "loops.h"

#define ISA(name) name##_v3
#define ISA_V3
#define TABLE loops_v3
#define NAME "v3"
#define VECTOR 32

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2,popcnt")
#endif

#include "loops.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int not_this_processor; /* C does not allow an empty file */
#endif
