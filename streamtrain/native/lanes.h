/* Vectors of VECTOR bytes, and arithmetic that gives the same bits with every instruction set.

   A product that is added is always fused: one rounding, by the processor's instruction or, for x86-64-v2, by
   `fused`. Sums of a row run in LANES lanes, whatever the vectors' width, and the lanes are added in one order. */

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

/* a · b + c with one rounding: the exact product and the sum rounded to odd in double precision, then to float
   (Boldo and Melquiond, Emulation of FMA and Correctly Rounded Sums, 2008). */
INLINE float fused(float a, float b, float c)
{
    double product = (double)a * b, sum = product + c, part = sum - product;
    double rest = (product - (sum - part)) + (c - part);
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    if (rest < 0 || rest > 0) /* inexact and finite */
        bits += bits & 1 ? 0 : (rest > 0) == (sum > 0) ? 1 : -1;
    memcpy(&sum, &bits, 8);
    return (float)sum;
}

INLINE vec multiply_add(vec a, vec b, vec c)
{
#if defined(ISA_V4)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(ISA_V3)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    vec result;
    for (int i = 0; i < WIDTH; i++)
        result[i] = fused(a[i], b[i], c[i]);
    return result;
#endif
}

/* The sum of LANES lanes, halves added to halves. */
INLINE double sum_of(double *lanes)
{
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

/* 2^n for n in -1022..1023. */
INLINE double power_of_2(int64_t n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return power;
}

/* e^x, at most 1 ulp from it (tests/native/test_step.py): x = n ln 2 + r, and Taylor's polynomial of r. */
INLINE double exponential(double x)
{
    static const double taylor[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880,
                                    1. / 40320,      1. / 5040,      1. / 720,      1. / 120,     1. / 24,
                                    1. / 6,          1. / 2};
    if (!(x > -746)) /* or not a number */
        return x < 0 ? 0 : x;
    if (x > 710)
        return INFINITY;
    double n = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0; /* to the nearest integer */
    double high = x - n * 6.93147180369123816490e-01, low = n * 1.90821492927058770002e-10, r = high - low;
    double p = 1. / 87178291200;
    for (int i = 0; i < 12; i++)
        p = p * r + taylor[i];
    double tail = p * r * r + ((high - r) - low); /* e^r = 1 + (r + tail) */
    int64_t whole = (int64_t)n, half = whole / 2;
    return (1 + (r + tail)) * power_of_2(half) * power_of_2(whole - half);
}

/* ln x for x > 0, at most 1 ulp from it: the algorithm of FDLIBM (Sun Microsystems, 1993). */
INLINE double logarithm(double x)
{
    uint64_t bits;
    int64_t k = 0;
    if (!(x < INFINITY) || x <= 0) /* infinite, or not a number, or not positive */
        return x > 0 ? x : x == 0 ? -INFINITY : NAN;
    if (x < 2.2250738585072014e-308) {
        x *= 18014398509481984.0;
        k = -54;
    }
    memcpy(&bits, &x, 8);
    uint64_t mantissa = bits & 0xFFFFFFFFFFFFF;
    int above = mantissa > 0x6A09E667F3BCC; /* of √2 */
    k += (int64_t)(bits >> 52) - 1023 + above;
    bits = mantissa | (uint64_t)(1023 - above) << 52;
    double f;
    memcpy(&f, &bits, 8);
    f -= 1;
    double s = f / (2 + f), z = s * s, w = z * z, half = 0.5 * f * f;
    double odd = z * (6.666666666666735130e-01 +
                      w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double low = (double)k * 1.90821492927058770002e-10, high = (double)k * 6.93147180369123816490e-01;
    return high - ((half - (s * (half + (odd + even)) + low)) - f);
}
