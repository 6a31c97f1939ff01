/* The loops for x86-64-v2, for arm64 and for any other processor. */

#include "loops.h"

#define ISA(name) name##_v2
#define TABLE loops_v2
#define VECTOR 16

#if defined(__x86_64__)
#define NAME "v2"
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse4.2,popcnt"))), apply_to = function)
#else
#pragma GCC target("sse4.2,popcnt")
#endif
#elif defined(__aarch64__)
#define NAME "arm64"
#include <arm_neon.h>
#else
#define NAME "any"
#endif

#include "loops.inc"

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
