/* Forward and backward passes of a whole net over the rows of a batch; see learn.py.

   Each number is a sum over pixels, units or rows in their order, with fused multiply-adds; vectors run along the units.
   So a result depends neither on the width of the vectors nor on the blocks in which it is computed. */

#define TILE 64 /* pixels of which the weights are in the nearest cache while all rows use them */
#if defined(ISA_V4) || defined(__aarch64__) /* the most rows and vectors of a block, which fit in the registers */
#define BLOCK_ROWS 8
#define BLOCK_VECTORS 3
#elif defined(ISA_V3)
#define BLOCK_ROWS 6
#define BLOCK_VECTORS 2
#else
#define BLOCK_ROWS 2
#define BLOCK_VECTORS 2
#endif

/* A matrix whose number (i, k) is data[i * row + k * step]. */
struct operand {
    const float *data;
    size_t row, step;
};

/* c[i][0 .. n vectors) = from + sum over k of a(i, k) * b[k][..] for m rows. */
INLINE void multiply_block(const int m, const int n, struct operand a, const float *b, size_t depth, size_t stride,
                           const float *from, float *c)
{
    vec sum[BLOCK_ROWS * BLOCK_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 3
        for (int v = 0; v < n; v++)
            sum[i * n + v] = from ? load(from + v * WIDTH) : all(0);
    for (size_t k = 0; k < depth; k++) {
        vec factor[BLOCK_VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < n; v++)
            factor[v] = load(b + k * stride + v * WIDTH);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            vec value = all(a.data[i * a.row + k * a.step]);
#pragma GCC unroll 3
            for (int v = 0; v < n; v++)
                sum[i * n + v] = multiply_add(value, factor[v], sum[i * n + v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 3
        for (int v = 0; v < n; v++)
            store(c + i * stride + v * WIDTH, sum[i * n + v]);
}

INLINE void multiply_rows(const int n, struct operand a, const float *b, size_t rows, size_t depth, size_t stride,
                          const float *from, float *c)
{
    size_t i = 0;
    for (; i + BLOCK_ROWS <= rows; i += BLOCK_ROWS)
        multiply_block(BLOCK_ROWS, n, (struct operand){a.data + i * a.row, a.row, a.step}, b, depth, stride, from,
                       c + i * stride);
    for (; i < rows; i++)
        multiply_block(1, n, (struct operand){a.data + i * a.row, a.row, a.step}, b, depth, stride, from,
                       c + i * stride);
}

/* c = from + a b, for a (rows, depth), b (depth, stride) and c (rows, stride); from: a row, or NULL for zeros. */
static void multiply(struct operand a, const float *b, size_t rows, size_t depth, size_t stride, const float *from,
                     float *c)
{
    size_t at = 0, end = stride;
#if BLOCK_VECTORS == 3
    for (; at + 4 * WIDTH < end || at + 3 * WIDTH == end; at += 3 * WIDTH) /* none of one vector is left */
        multiply_rows(3, a, b + at, rows, depth, stride, from ? from + at : NULL, c + at);
#endif
    for (; at + 2 * WIDTH <= end; at += 2 * WIDTH)
        multiply_rows(2, a, b + at, rows, depth, stride, from ? from + at : NULL, c + at);
    for (; at < end; at += WIDTH)
        multiply_rows(1, a, b + at, rows, depth, stride, from ? from + at : NULL, c + at);
}

/* sums[0 .. stride) = the sum of the rows of d (rows, stride). */
static void sum_rows(const float *d, size_t rows, size_t stride, float *sums)
{
    for (size_t at = 0; at < stride; at += WIDTH) {
        vec sum = all(0);
        for (size_t row = 0; row < rows; row++)
            sum += load(d + row * stride + at);
        store(sums + at, sum);
    }
}

/* to[0 .. n vectors) = from + the sum over the marked k of x[bytes[k * step]] * vectors[k * units ..]. */
INLINE void add_marked(const int n, uint64_t marks, const float *x, const uint8_t *bytes, size_t step,
                       const float *vectors, size_t units, const float *from, float *to)
{
    vec sum[BLOCK];
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        sum[u] = load(from + u * WIDTH);
    for (; marks; marks &= marks - 1) {
        size_t k = (size_t)__builtin_ctzll(marks);
        vec value = all(x[bytes[k * step]]);
#pragma GCC unroll 16
        for (int u = 0; u < n; u++)
            sum[u] = multiply_add(value, load(vectors + k * units + u * WIDTH), sum[u]);
    }
#pragma GCC unroll 16
    for (int u = 0; u < n; u++)
        store(to + u * WIDTH, sum[u]);
}

/* A tile of pixels: TILE columns of some rows. */
struct tile {
    const float *x; /* [256] the scaled value of each byte */
    const uint8_t *pixels;
    size_t line, rows, columns;
};

/* z[0 .. n vectors) = from + x weight for each row of a tile; from: a row for each, or one for all if `from_stride` is 0. */
INLINE void forward_tile(const int n, const struct tile *t, const float *weight, size_t units, const float *from,
                         size_t from_stride, float *z)
{
    for (size_t row = 0; row < t->rows; row++) {
        const uint8_t *pixels = t->pixels + row * t->line;
        add_marked(n, nonzero_64(pixels), t->x, pixels, 1, weight, units, from + row * from_stride, z + row * units);
    }
}

/* gradient[0 .. n vectors) += x^T dz for each column of a tile; marks: [column] a bit for each of TILE rows. */
INLINE void backward_tile(const int n, const struct tile *t, const uint64_t *marks, const float *dz, size_t units,
                          float *gradient)
{
    for (size_t place = 0; place < t->columns; place++, gradient += units)
        add_marked(n, marks[place], t->x, t->pixels + place, t->line, dz, units, gradient, gradient);
}

/* Mark the pixels of up to TILE rows of a tile that are not zero: marks[column] has a bit for each row. */
static void mark_columns(const struct tile *t, uint64_t *marks)
{
    for (size_t row = 0; row < TILE; row++)
        marks[row] = row < t->rows ? nonzero_64(t->pixels + row * t->line) : 0;
    uint64_t mask = 0xFFFFFFFF; /* transposed: Warren, Hacker's Delight, 7-3 */
    for (size_t j = TILE / 2; j; j /= 2, mask ^= mask << j)
        for (size_t k = 0; k < TILE; k = ((k | j) + 1) & ~j) {
            uint64_t swapped = (marks[k] >> j ^ marks[k | j]) & mask;
            marks[k] ^= swapped << j;
            marks[k | j] ^= swapped;
        }
}

static size_t padded_to(size_t count, size_t unit) { return (count + unit - 1) / unit * unit; }

/* Numbers of a layer's padded weight and bias. */
static size_t layer_numbers(const struct net *net, size_t layer)
{
    return ((size_t)net->sizes[layer] + 1) * padded_to((size_t)net->sizes[layer + 1], LANES);
}

/* Where a pass keeps what it computes, in one piece of memory. */
struct places {
    size_t line;        /* pixels of a row, padded if zeros are skipped */
    uint8_t *pixels;    /* [rows][line] if zeros are skipped, and otherwise x [rows][line] */
    float *a, *dz, *da; /* activations of all layers, one after another; two matrices of the widest layer */
    float *transposed;  /* the weight of a layer */
    size_t numbers;     /* floats in all */
};

static struct places places_of(const struct net *net, size_t rows, float *memory)
{
    struct places to;
    size_t features = (size_t)net->sizes[0], units = 0, widest = 0, largest = 0;
    for (size_t layer = 1; layer <= net->layers; layer++) {
        size_t width = padded_to((size_t)net->sizes[layer], LANES);
        size_t above = layer < net->layers ? (size_t)net->sizes[layer + 1] * width : 0;
        units += width;
        widest = width > widest ? width : widest;
        largest = above > largest ? above : largest;
    }
    to.line = net->skips_zeros ? padded_to(features, TILE) : features;
    size_t pixels = padded_to(net->skips_zeros ? rows * to.line / 4 : rows * to.line, LANES);
    to.pixels = (uint8_t *)memory;
    to.a = memory + pixels;
    to.dz = to.a + rows * units;
    to.da = to.dz + rows * widest;
    to.transposed = to.da + rows * widest;
    to.numbers = pixels + rows * units + 2 * rows * widest + largest;
    return to;
}

static size_t ISA(room)(const struct net *net, size_t rows) { return places_of(net, rows, NULL).numbers; }

/* Copy the rows of a batch, the pixels as they are if zeros are skipped and scaled otherwise. */
static void read_rows(const struct net *net, const struct rows *rows, struct places *to)
{
    size_t features = (size_t)net->sizes[0], bytes = features * rows->item;
    float low = net->low, factor = 1 / net->span;
    for (size_t i = 0; i < rows->count; i++) {
        const uint8_t *row = (const uint8_t *)rows->pixels + (size_t)rows->order[i] * bytes;
        const uint8_t *coming = (const uint8_t *)rows->pixels + (size_t)rows->order[i + AHEAD < rows->count ? i + AHEAD : i] * bytes;
        for (size_t line = 0; line < bytes; line += 64)
            __builtin_prefetch(coming + line);
        if (net->skips_zeros) {
            uint8_t *out = to->pixels + i * to->line;
            memcpy(out, row, features);
            memset(out + features, 0, to->line - features);
            continue;
        }
        float *out = (float *)to->pixels + i * to->line;
        if (rows->item == 1)
            for (size_t j = 0; j < features; j++)
                out[j] = ((float)row[j] - low) * factor;
        else if (rows->item == 2)
            for (size_t j = 0; j < features; j++)
                out[j] = ((float)((const uint16_t *)(const void *)row)[j] - low) * factor;
        else
            for (size_t j = 0; j < features; j++)
                out[j] = (((const float *)(const void *)row)[j] - low) * factor;
    }
}

static void scale_table(const struct net *net, float *x)
{
    float factor = 1 / net->span;
    for (int value = 0; value < 256; value++)
        x[value] = (float)value * factor;
}

/* z (rows, units) of the first layer. */
static void first_forward(const struct net *net, const struct places *at, size_t rows, const float *weight, float *z)
{
    size_t features = (size_t)net->sizes[0], units = padded_to((size_t)net->sizes[1], LANES);
    const float *bias = weight + features * units;
    if (!net->skips_zeros) {
        multiply((struct operand){(float *)at->pixels, at->line, 1}, weight, rows, features, units, bias, z);
        return;
    }
    float x[256];
    scale_table(net, x);
    size_t vectors = units / WIDTH, block = block_of(units);
    for (size_t start = 0; start < features; start += TILE) {
        struct tile tile = {x, at->pixels + start, at->line, rows, TILE};
        for (size_t first = 0; first < vectors; first += block) {
            size_t u = first * WIDTH, n = vectors - first < block ? vectors - first : block;
            WITH_CONSTANT(n, forward_tile, &tile, weight + start * units + u, units, start ? z + u : bias + u,
                          start ? units : 0, z + u)
        }
    }
}

/* The gradient of the first layer's weight, x^T dz. */
static void first_backward(const struct net *net, const struct places *at, size_t rows, const float *dz,
                           float *gradient)
{
    size_t features = (size_t)net->sizes[0], units = padded_to((size_t)net->sizes[1], LANES);
    if (!net->skips_zeros) {
        multiply((struct operand){(float *)at->pixels, 1, at->line}, dz, features, rows, units, NULL, gradient);
        return;
    }
    float x[256];
    scale_table(net, x);
    size_t vectors = units / WIDTH, block = block_of(units);
    memset(gradient, 0, features * units * sizeof *gradient);
    for (size_t row = 0; row < rows; row += TILE, dz += TILE * units)
        for (size_t start = 0; start < features; start += TILE) {
            struct tile tile = {x, at->pixels + row * at->line + start, at->line, rows - row, features - start};
            tile.rows = tile.rows < TILE ? tile.rows : TILE;
            tile.columns = tile.columns < TILE ? tile.columns : TILE;
            uint64_t marks[TILE];
            mark_columns(&tile, marks);
            for (size_t first = 0; first < vectors; first += block) {
                size_t u = first * WIDTH, n = vectors - first < block ? vectors - first : block;
                WITH_CONSTANT(n, backward_tile, &tile, marks, dz + u, units, gradient + start * units + u)
            }
        }
}

/* Replace `count` numbers z, a multiple of LANES, by their activations. */
static void activate(enum activation activation, float *z, size_t count)
{
    const vec one = all(1);
    for (size_t i = 0; i < count; i += WIDTH) {
        vec value = load(z + i);
        if (activation == SIGMOID)
            value = one / (one + exponential(-value));
        else if (activation == TANH)
            value = one - 2 / (one + exponential(value + value));
        else
            value = chosen_float(value > 0, value, all(0));
        store(z + i, value);
    }
}

/* Turn `count` numbers da into dz, given a. */
static void chain(enum activation activation, float *da, const float *a, size_t count)
{
    for (size_t i = 0; i < count; i += WIDTH) {
        vec d = load(da + i), value = load(a + i);
        if (activation == RELU)
            d = chosen_float(value > 0, d, all(0));
        else
            d *= multiply_add(-value, value, activation == SIGMOID ? value : all(1));
        store(da + i, d);
    }
}

/* Compute the activations of each layer, the logits (rows, classes, padded) last; return where these are. */
static float *forward_pass(const struct net *net, const struct rows *rows, struct places *at)
{
    read_rows(net, rows, at);
    first_forward(net, at, rows->count, net->parameters, at->a);
    float *z = at->a;
    const float *weight = net->parameters;
    for (size_t layer = 1; layer < net->layers; layer++) {
        size_t below = padded_to((size_t)net->sizes[layer], LANES), depth = (size_t)net->sizes[layer];
        size_t units = padded_to((size_t)net->sizes[layer + 1], LANES);
        weight += layer_numbers(net, layer - 1);
        activate(net->activation, z, rows->count * below);
        multiply((struct operand){z, below, 1}, weight, rows->count, depth, units, weight + depth * units,
                 z + rows->count * below);
        z += rows->count * below;
    }
    return z;
}

/* da (rows, below) = dz W^T for the weight W (below, units). */
static void input_gradient(const struct places *at, const float *dz, const float *weight, size_t rows, size_t below,
                           size_t units, float *da)
{
    size_t stride = padded_to(units, LANES), width = padded_to(below, LANES);
    for (size_t k = 0; k < units; k++)
        for (size_t i = 0; i < width; i++)
            at->transposed[k * width + i] = i < below ? weight[i * stride + k] : 0;
    multiply((struct operand){dz, stride, 1}, at->transposed, rows, units, width, NULL, da);
}

static void ISA(logits)(const struct net *net, const struct rows *rows, float *memory, float *logits)
{
    size_t width = padded_to((size_t)net->sizes[net->layers], LANES);
    struct rows part = *rows;
    for (size_t done = 0; done < rows->count; done += part.count) {
        part.order = rows->order + done;
        part.count = rows->count - done < LOGIT_ROWS ? rows->count - done : LOGIT_ROWS;
        struct places at = places_of(net, part.count, memory);
        memcpy(logits + done * width, forward_pass(net, &part, &at), part.count * width * sizeof *logits);
    }
}

static void ISA(gradient)(const struct net *net, const struct rows *rows, const int64_t *labels, float *memory,
                          float *gradient, double *totals)
{
    struct places at = places_of(net, rows->count, memory);
    float *a = forward_pass(net, rows, &at), *dz = at.dz, *da = at.da;
    size_t classes = (size_t)net->sizes[net->layers], width = padded_to(classes, LANES), count = rows->count;
    const float *weight = net->parameters;
    for (size_t layer = 0; layer + 1 < net->layers; layer++) {
        weight += layer_numbers(net, layer);
        gradient += layer_numbers(net, layer);
    }
    memset(dz, 0, count * width * sizeof *dz);
    ISA(score)(a, width, count, classes, labels, dz, width, totals);
    for (size_t layer = net->layers - 1; layer; layer--) {
        size_t below = (size_t)net->sizes[layer], units = (size_t)net->sizes[layer + 1];
        size_t stride = padded_to(units, LANES), before = padded_to(below, LANES);
        a -= count * before;
        multiply((struct operand){a, 1, before}, dz, below, count, stride, NULL, gradient);
        sum_rows(dz, count, stride, gradient + below * stride);
        input_gradient(&at, dz, weight, count, below, units, da);
        chain(net->activation, da, a, count * before);
        float *swapped = dz;
        dz = da, da = swapped;
        weight -= layer_numbers(net, layer - 1);
        gradient -= layer_numbers(net, layer - 1);
    }
    size_t units = padded_to((size_t)net->sizes[1], LANES);
    first_backward(net, &at, count, dz, gradient);
    sum_rows(dz, count, units, gradient + (size_t)net->sizes[0] * units);
}

/* Move `count` parameters, a multiple of LANES, against a gradient that is a sum over rows; see learn.py. */
static void ISA(move)(float *parameters, float *velocity, const float *gradient, size_t count, float share, float lr,
                      float momentum, float decay)
{
    for (size_t i = 0; i < count; i += WIDTH) {
        vec p = load(parameters + i), g = load(gradient + i);
        if (velocity) {
            vec v = multiply_add(all(share), g, all(momentum) * load(velocity + i));
            v = multiply_add(all(decay), p, v);
            store(velocity + i, v);
            p = multiply_add(all(-lr), v, p);
        } else {
            p = multiply_add(all(-lr * share), g, all(1 - lr * decay) * p);
        }
        store(parameters + i, p);
    }
}
