/* Vectors of VECTOR bytes, and arithmetic that gives the same bits with every instruction set.

   A multiplication and an addition are always fused: one rounding, by the processor's instruction or, for x86-64-v2, by
   `fused`. The sum of a row is formed in LANES lanes, whatever the vectors' width, and the lanes are added
   in a fixed order. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define WIDTH (VECTOR / 4) /* floats of a vector */
#define INLINE static inline __attribute__((always_inline, unused))

typedef float vec __attribute__((vector_size(VECTOR)));
typedef float loose_vec __attribute__((vector_size(VECTOR), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec value) { *(loose_vec *)to = value; }
INLINE vec all(float value) { return value - (vec){0}; }

#if defined(__x86_64__) && !defined(ISA_V4) && !defined(ISA_V3)
typedef double pair __attribute__((vector_size(16)));
typedef int64_t words __attribute__((vector_size(16)));

/* a · b + c with one rounding: the exact product and the sum rounded to odd in double precision, then to float
   (Boldo and Melquiond, Emulation of FMA and Correctly Rounded Sums, 2008). */
INLINE pair fused(pair a, pair b, pair c)
{
    pair product = a * b, sum = product + c, part = sum - product;
    pair rest = (product - (sum - part)) + (c - part);
    words inexact = (rest < 0) | (rest > 0); /* and finite */
    words outward = (rest > 0) == (sum > 0), even = ((words)sum & 1) - 1;
    return (pair)((words)sum + (((outward & 2) - 1) & inexact & even)); /* to the odd neighbour, on the side of the remainder */
}
#endif

INLINE vec multiply_add(vec a, vec b, vec c)
{
#if defined(ISA_V4)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(ISA_V3)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(__x86_64__)
    __m128 upper_a = _mm_movehl_ps((__m128)a, (__m128)a), upper_b = _mm_movehl_ps((__m128)b, (__m128)b);
    __m128 upper_c = _mm_movehl_ps((__m128)c, (__m128)c);
    pair low = fused((pair)_mm_cvtps_pd((__m128)a), (pair)_mm_cvtps_pd((__m128)b), (pair)_mm_cvtps_pd((__m128)c));
    pair high = fused((pair)_mm_cvtps_pd(upper_a), (pair)_mm_cvtps_pd(upper_b), (pair)_mm_cvtps_pd(upper_c));
    return (vec)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
#else
    vec result;
    for (int i = 0; i < WIDTH; i++)
        result[i] = fmaf(a[i], b[i], c[i]);
    return result;
#endif
}

INLINE vec square_root(vec value)
{
#if defined(ISA_V4)
    return (vec)_mm512_sqrt_ps((__m512)value);
#elif defined(ISA_V3)
    return (vec)_mm256_sqrt_ps((__m256)value);
#elif defined(__x86_64__)
    return (vec)_mm_sqrt_ps((__m128)value);
#elif defined(__aarch64__)
    return (vec)vsqrtq_f32((float32x4_t)value);
#else
    for (int i = 0; i < WIDTH; i++)
        value[i] = sqrtf(value[i]);
    return value;
#endif
}

/* 2^n for n in -1022..1023. */
INLINE double power_of_2(int64_t n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return power;
}

typedef double reals __attribute__((vector_size(VECTOR)));
typedef int64_t integers __attribute__((vector_size(VECTOR)));

INLINE reals chosen(integers mask, reals yes, reals no)
{
    return (reals)(((integers)yes & mask) | ((integers)no & ~mask));
}

/* ln x for x >= 1 with an error of at most 1 ulp: the algorithm of FDLIBM (Sun Microsystems, 1993). */
INLINE reals logarithm(reals x)
{
    const reals zero = {0}, to_integer = zero + 6755399441055744.0;
    integers bits = (integers)x, mantissa = bits & 0xFFFFFFFFFFFFF;
    integers above = mantissa > 0x6A09E667F3BCC; /* of the square root of 2: -1, otherwise 0 */
    reals k = (reals)((bits >> 52) - 1023 - above + (integers)to_integer) - to_integer;
    reals f = (reals)(mantissa | (1023 + above) << 52) - 1;
    reals s = f / (2 + f), z = s * s, w = z * z, half = 0.5 * f * f;
    reals odd = z * (6.666666666666735130e-01 +
                     w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    reals even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    reals low = k * 1.90821492927058770002e-10, high = k * 6.93147180369123816490e-01;
    return chosen(x < INFINITY, high - ((half - (s * (half + (odd + even)) + low)) - f), x); /* or infinite, or NaN */
}

typedef int32_t ints __attribute__((vector_size(VECTOR)));

INLINE ints chosen_int(ints mask, ints yes, ints no) { return (yes & mask) | (no & ~mask); }
INLINE vec chosen_float(ints mask, vec yes, vec no) { return (vec)chosen_int(mask, (ints)yes, (ints)no); }

/* e^x with an error of at most 1 ulp (tests/native/test_step.py): x = n ln 2 + r, and the polynomial of r
   from Cephes (Moshier, expf). */
INLINE vec exponential(vec x)
{
    static const float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    const vec to_integer = all(12582912); /* 1.5 * 2^23: adding it rounds to an integer */
    x = chosen_float(x < -104, all(-104), x); /* e^x is 0 there, and infinite at 89 */
    x = chosen_float(x > 89, all(89), x);
    vec shifted = multiply_add(x, all(1.44269504f), to_integer), n = shifted - to_integer;
    vec r = multiply_add(n, all(-0.693359375f), x), p = all(1.9875691500e-4f);
    r = multiply_add(n, all(2.12194440e-4f), r);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        p = multiply_add(p, r, all(terms[i]));
    p = multiply_add(p, r * r, r) + 1;
    ints whole = (ints)shifted - (ints)to_integer, half = whole >> 1;
    return p * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
}
