/* See statistics.py. */

#define SHORT_ROWS 32768 /* rows of at most 255² each, whose sum fits in 32 bits */

/* Add rows [start, stop) to sums of 32 bits. */
INLINE void add_short(const uint8_t *pixels, size_t rows, size_t features, const int64_t *group, uint32_t *short_sums,
                      uint32_t *restrict squares, uint8_t *restrict low, uint8_t *restrict high)
{
    for (size_t row = 0; row < rows; row++) {
        const uint8_t *restrict from = pixels + row * features;
        uint32_t *restrict own = short_sums + (size_t)group[row] * features;
        for (size_t j = 0; j < features; j++) {
            uint32_t value = from[j];
            own[j] += value;
            squares[j] += value * value;
        }
        for (size_t j = 0; j < features; j++) {
            low[j] = from[j] < low[j] ? from[j] : low[j];
            high[j] = from[j] > high[j] ? from[j] : high[j];
        }
    }
}

/* Returns 0 if out of memory. */
static size_t ISA(add_rows)(const uint8_t *pixels, size_t rows, size_t features, const int64_t *group, size_t groups,
                            int64_t *sums, int64_t *squares, uint8_t *low, uint8_t *high)
{
    uint32_t *short_sums = malloc((groups + 1) * features * sizeof *short_sums);
    if (!short_sums)
        return 0;
    uint32_t *short_squares = short_sums + groups * features;
    for (size_t start = 0; start < rows; start += SHORT_ROWS) {
        size_t count = rows - start < SHORT_ROWS ? rows - start : SHORT_ROWS;
        memset(short_sums, 0, (groups + 1) * features * sizeof *short_sums);
        add_short(pixels + start * features, count, features, group + start, short_sums, short_squares, low, high);
        for (size_t j = 0; j < groups * features; j++)
            sums[j] += short_sums[j];
        for (size_t j = 0; j < features; j++)
            squares[j] += short_squares[j];
    }
    free(short_sums);
    return 1;
}
