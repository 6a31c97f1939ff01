/* See gather.py. */

#define LINE 64 /* bytes of a cache line */

/* Write (value - low) / span for `count` bytes. */
INLINE void scale_bytes(const uint8_t *pixels, size_t count, float low, float span, float *out)
{
    for (size_t j = 0; j < count; j++)
        out[j] = ((float)pixels[j] - low) / span;
}

static void ISA(gather_scaled)(const uint8_t *pixels, size_t features, const int64_t *order, size_t left, float low,
                               float span, size_t rows, float *out)
{
    size_t whole = features - features % LINE;
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *row = pixels + (size_t)order[i] * features;
        /* Rows come in random order, which the processor cannot predict: prefetching halves the time. */
        const uint8_t *coming = pixels + (size_t)order[i + AHEAD < left ? i + AHEAD : left - 1] * features;
        float *to = out + i * features;
        for (size_t line = 0; line < whole; line += LINE) {
            __builtin_prefetch(coming + line);
            scale_bytes(row + line, LINE, low, span, to + line);
        }
        __builtin_prefetch(coming + features - 1);
        scale_bytes(row + whole, features - whole, low, span, to + whole);
    }
}
