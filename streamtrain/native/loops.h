/* The loops of one instruction set, each named ISA(name), and the table through which _core.c calls them. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The loops are written for processors that have the lowest byte of a number first."
#endif

#define LANES 16    /* partial sums of a row */
#define PADDING 32  /* newlines after a text, so that no load goes past its buffer */
#define LOGIT_ROWS 256 /* rows of which to compute the logits at a time */
#define AHEAD 3      /* how many rows ahead to prefetch */

#define NEWLINE 10
#define RETURN 13

enum role { PIXEL, LABEL, DROPPED };
enum label_kind { NUMBER, DECIMAL, WORD, TEXT, DECLARED_WORD, ONEHOT, DIGITS };

/* How rows are written; see Layout in parse.py. */
struct layout {
    uint8_t delimiter;
    int decimal, label_kind, trailing;
    const int32_t *part; /* [parts][2] role and columns */
    size_t parts, features, item; /* item: bytes of a pixel */
    double low, high;
    uint32_t byte_low, byte_span; /* the same for one-byte pixels; see set_byte_range */
    int has_zero;
    const int32_t *classes; /* [class_count] class index of each numeric label; negative: refuse it */
    size_t class_count;
    size_t guard_column; /* a row with the text `guard` there is refused: it may be the header */
    const uint8_t *guard;
    size_t guard_length;
};

enum activation { SIGMOID, TANH, RELU };

/* A net and how its pixels are scaled; see learn.py. */
struct net {
    const int64_t *sizes; /* [layers + 1] pixels, and then the units of each layer */
    size_t layers;
    enum activation activation;
    int skips_zeros; /* the pixels are bytes, low is 0, and pixels that are zero are skipped */
    float low, span;
    const float *parameters;
};

/* Rows of a window of pixels. */
struct rows {
    const void *pixels;
    size_t item; /* bytes of a pixel */
    const int64_t *order;
    size_t count;
};

/* Derive the range of one-byte pixels from `low` and `high`, and whether 0 is among them. */
static inline void set_byte_range(struct layout *how)
{
    how->has_zero = how->low <= 0 && how->high >= 0;
    how->byte_low = 256, how->byte_span = 0; /* above every byte: no byte is a pixel */
    if (how->low > 255 || how->high < 0)
        return;
    uint32_t low = how->low > 0 ? (uint32_t)how->low : 0, high = how->high < 255 ? (uint32_t)how->high : 255;
    low += low < how->low;
    if (low <= high)
        how->byte_low = low, how->byte_span = high - low;
}

#define WORD_SLOTS 8192

/* The words that are labels, one after another in `text`, and a hash table of them. */
struct words {
    uint8_t *text;
    int32_t *ends;           /* [room] */
    size_t text_room, count, room;
    int32_t *added;            /* the slot of the word that the current row has added, or NULL */
    int32_t slots[WORD_SLOTS]; /* the index of a word plus 1; 0 is empty */
};

struct loops {
    const char *name;
    size_t (*parse)(const uint8_t *, size_t, const struct layout *, struct words *, size_t, size_t, uint8_t *,
                    int32_t *, int32_t *, int32_t *, size_t, int64_t *);
    size_t (*count_lines)(const uint8_t *, size_t);
    void (*end_lines)(uint8_t *, size_t);
    void (*gather_scaled)(const uint8_t *, size_t, const int64_t *, size_t, float, float, size_t, float *);
    size_t (*add_rows)(const uint8_t *, size_t, size_t, const int64_t *, size_t, int64_t *, int64_t *, uint8_t *,
                       uint8_t *);
    size_t (*evaluate)(const float *, size_t, size_t, size_t, const int64_t *, double *, int64_t *, double *, size_t);
    void (*list_nonzero)(uint32_t *, uint32_t *, size_t, const uint8_t *, size_t, size_t);
    void (*forward)(const float *, const float *, const float *, float *, const uint8_t *, size_t, size_t, size_t);
    void (*accumulate)(const float *, const uint32_t *, const uint32_t *, size_t, const float *, size_t, float, float,
                       float *, float *, size_t, size_t);
    void (*score)(const float *, size_t, size_t, size_t, const int64_t *, float *, size_t, double *);
    void (*exponentials)(float *, size_t);
    size_t (*room)(const struct net *, size_t);
    void (*logits)(const struct net *, const struct rows *, float *, float *);
    void (*gradient)(const struct net *, const struct rows *, const int64_t *, float *, float *, double *);
    void (*move)(float *, float *, const float *, size_t, float, float, float, float);
    void (*warp)(const uint8_t *, size_t, size_t, size_t, const int32_t *, const int32_t *, const int32_t *,
                 const int32_t *, uint8_t *);
    void (*adam)(float *, float *, float *, const float *, size_t, const float *);
};

extern const struct loops loops_v2, loops_v3, loops_v4; /* v2 is for other processors too */
