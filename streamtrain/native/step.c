/* See step.py. */

#define SEGMENT 1024 /* pixels of a row to list at a time */
#if defined(ISA_V4) || defined(__aarch64__) /* the most sums, in vectors, that fit in the registers */
#define BLOCK 16
#elif defined(ISA_V3)
#define BLOCK 12
#else
#define BLOCK 4 /* `fused` needs the other registers */
#endif

/* Return a bit for each of 64 bytes, set if it is not zero; the lowest bit is the first byte. */
INLINE uint64_t nonzero_64(const uint8_t *bytes)
{
#if defined(ISA_V4)
    __m512i value = _mm512_loadu_si512(bytes);
    return _mm512_test_epi8_mask(value, value);
#elif defined(ISA_V3)
    __m256i zero = _mm256_setzero_si256();
    uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)bytes), zero));
    const void *upper = bytes + 32;
    uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(upper), zero));
    return ~((uint64_t)high << 32 | low);
#else
    uint64_t marks = 0, low_7 = 0x7F7F7F7F7F7F7F7F;
    for (int i = 0; i < 8; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, 8);
        word = (((word & low_7) + low_7) | word) & ~low_7; /* the highest bit of each byte that is not zero */
        marks |= (word >> 7) * 0x0102040810204080 >> 56 << 8 * i;
    }
    return marks;
#endif
}

/* Write the indices of the bytes in bytes[0 .. count) that are not zero; return their number. */
INLINE size_t list_places(const uint8_t *bytes, size_t count, uint32_t *places)
{
    size_t found = 0, at = 0;
    for (; at + 64 <= count; at += 64)
        for (uint64_t marks = nonzero_64(bytes + at); marks; marks &= marks - 1)
            places[found++] = (uint32_t)(at + (size_t)__builtin_ctzll(marks));
    for (; at < count; at++) {
        places[found] = (uint32_t)at;
        found += bytes[at] != 0;
    }
    return found;
}

static void ISA(list_nonzero)(uint32_t *counts, uint32_t *shares, size_t width, const uint8_t *pixels, size_t rows,
                              size_t features)
{
    memset(counts, 0, features * sizeof *counts);
    for (size_t row = 0; row < rows; row++, pixels += features)
        for (size_t start = 0; start < features; start += SEGMENT) {
            uint32_t places[SEGMENT];
            size_t count = features - start < SEGMENT ? features - start : SEGMENT;
            size_t found = list_places(pixels + start, count, places);
            for (size_t i = 0; i < found; i++) {
                size_t place = start + places[i];
                shares[place * width + counts[place]++] = (uint32_t)(row << 8 | pixels[place]);
            }
        }
}

/* z[0 .. n vectors) = from + Σ x · weight over the listed places. */
INLINE void add_products(const int n, const float *x, const uint8_t *pixels, const uint32_t *places, size_t found,
                         const float *weight, size_t units, const float *from, float *z)
{
    vec sum[BLOCK];
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        sum[u] = load(from + u * WIDTH);
    for (size_t i = 0; i < found; i++) {
        const float *w = weight + places[i] * units;
        vec value = all(x[pixels[places[i]]]);
#pragma GCC unroll 16
        for (int u = 0; u < n; u++)
            sum[u] = multiply_add(value, load(w + u * WIDTH), sum[u]);
    }
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        store(z + u * WIDTH, sum[u]);
}

/* weight[0 .. n vectors) = beta · weight + alpha · Σ x · dz over the listed pixels of one feature. */
INLINE void add_shares(const int n, const float *x, const uint32_t *shares, size_t count, const float *dz,
                       size_t units, float beta, float alpha, float *weight)
{
    if (!count && beta == 1)
        return;
    vec sum[BLOCK];
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        sum[u] = all(0);
    for (size_t i = 0; i < count; i++) {
        const float *d = dz + (size_t)(shares[i] >> 8) * units;
        vec value = all(x[shares[i] & 255]);
#pragma GCC unroll 16
        for (int u = 0; u < n; u++)
            sum[u] = multiply_add(value, load(d + u * WIDTH), sum[u]);
    }
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        store(weight + u * WIDTH, multiply_add(all(alpha), sum[u], all(beta) * load(weight + u * WIDTH)));
}

/* Call with n as a constant, so that the sums stay in registers. */
#define CASE(n, function, ...)                                                                                         \
    case n:                                                                                                            \
        function(n, __VA_ARGS__);                                                                                      \
        break;
#define CASES_4(n, ...) CASE(n + 1, __VA_ARGS__) CASE(n + 2, __VA_ARGS__) CASE(n + 3, __VA_ARGS__) CASE(n + 4, __VA_ARGS__)
#if BLOCK == 4
#define CASES(...) CASES_4(0, __VA_ARGS__)
#elif BLOCK == 12
#define CASES(...) CASES_4(0, __VA_ARGS__) CASES_4(4, __VA_ARGS__) CASES_4(8, __VA_ARGS__)
#else
#define CASES(...) CASES_4(0, __VA_ARGS__) CASES_4(4, __VA_ARGS__) CASES_4(8, __VA_ARGS__) CASES_4(12, __VA_ARGS__)
#endif
#define WITH_CONSTANT(n, ...)                                                                                          \
    switch (n) {                                                                                                       \
        CASES(__VA_ARGS__)                                                                                             \
    }

/* Return how many vectors of a row of units to sum together: blocks of equal size that fit in the registers. */
INLINE size_t block_of(size_t units)
{
    size_t vectors = units / WIDTH, blocks = (vectors + BLOCK - 1) / BLOCK;
    return (vectors + blocks - 1) / blocks;
}

static void ISA(forward)(const float *x, const float *weight, const float *bias, float *z, const uint8_t *pixels,
                         size_t rows, size_t features, size_t units)
{
    size_t vectors = units / WIDTH, block = block_of(units);
    for (size_t row = 0; row < rows; row++, pixels += features, z += units)
        for (size_t start = 0; start < features; start += SEGMENT) {
            uint32_t places[SEGMENT];
            size_t count = features - start < SEGMENT ? features - start : SEGMENT;
            size_t found = list_places(pixels + start, count, places);
            for (size_t first = 0; first < vectors; first += block) {
                size_t at = first * WIDTH, n = vectors - first < block ? vectors - first : block;
                const float *from = start ? z + at : bias + at, *w = weight + start * units + at;
                WITH_CONSTANT(n, add_products, x, pixels + start, places, found, w, units, from, z + at)
            }
        }
}

static void ISA(accumulate)(const float *x, const uint32_t *counts, const uint32_t *shares, size_t width,
                            const float *dz, size_t rows, float beta, float alpha, float *weight, float *bias,
                            size_t features, size_t units)
{
    size_t vectors = units / WIDTH, block = block_of(units);
    for (size_t first = 0; first < vectors; first += block) {
        size_t at = first * WIDTH, n = vectors - first < block ? vectors - first : block;
        for (size_t place = 0; place < features; place++)
            WITH_CONSTANT(n, add_shares, x, shares + place * width, counts[place], dz + at, units, beta, alpha,
                          weight + place * units + at)
    }
    for (size_t at = 0; at < units; at += WIDTH) {
        vec sum = all(0);
        for (size_t row = 0; row < rows; row++)
            sum += load(dz + row * units + at);
        store(bias + at, multiply_add(all(alpha), sum, all(beta) * load(bias + at)));
    }
}
