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

/* Return the sum of LANES lanes: halves are added to halves. */
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

typedef double reals __attribute__((vector_size(VECTOR)));
typedef int64_t integers __attribute__((vector_size(VECTOR)));

INLINE reals chosen(integers mask, reals yes, reals no)
{
    return (reals)(((integers)yes & mask) | ((integers)no & ~mask));
}

/* e^x with an error of at most 1 ulp (tests/native/test_step.py): x = n ln 2 + r, and Taylor's polynomial of r. */
INLINE reals exponential(reals x)
{
    static const double taylor[] = {1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880,
                                    1. / 40320,      1. / 5040,      1. / 720,      1. / 120,     1. / 24,
                                    1. / 6,          1. / 2};
    const reals zero = {0}, to_integer = zero + 6755399441055744.0; /* 1.5 · 2^52: adding it rounds to an integer */
    x = chosen(x < -746, zero - 746, x); /* e^x is 0 there, and infinite at 710 */
    x = chosen(x > 710, zero + 710, x);
    reals shifted = x * 1.4426950408889634 + to_integer, n = shifted - to_integer;
    reals high = x - n * 6.93147180369123816490e-01, low = n * 1.90821492927058770002e-10, r = high - low;
    reals p = zero + 1. / 87178291200;
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        p = p * r + taylor[i];
    reals tail = p * r * r + ((high - r) - low); /* e^r = 1 + (r + tail) */
    integers whole = (integers)shifted - (integers)to_integer, half = whole >> 1;
    return (1 + (r + tail)) * (reals)((half + 1023) << 52) * (reals)((whole - half + 1023) << 52);
}

/* Replace each of LANES numbers by its exponential. */
INLINE void exponentials(double *lanes)
{
    for (int i = 0; i < LANES; i += VECTOR / 8) {
        reals x;
        memcpy(&x, lanes + i, VECTOR);
        x = exponential(x);
        memcpy(lanes + i, &x, VECTOR);
    }
}

/* ln x for x > 0 with an error of at most 1 ulp: the algorithm of FDLIBM (Sun Microsystems, 1993). */
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
