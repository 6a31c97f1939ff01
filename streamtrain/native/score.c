/* See step.py and evaluate.py. WIDTH rows are computed at a time, a row in each element of a vector, so no result depends
   on the width. */

/* The softmax of WIDTH rows: e^(logit - top), which is 1 for the likeliest class, and the sum of the others. */
struct softmax {
    vec top, others;
    ints likeliest;
};

/* Return column k of WIDTH rows of a matrix, the last row again if there are fewer. */
INLINE vec column(const float *matrix, size_t stride, size_t rows, size_t k)
{
    float values[WIDTH];
    for (size_t i = 0; i < WIDTH; i++)
        values[i] = matrix[(i < rows ? i : rows - 1) * stride + k];
    return load(values);
}

/* Compute the softmax of up to WIDTH rows; write the powers to `powers` unless it is NULL. */
INLINE struct softmax softmax_of(const float *logits, size_t stride, size_t rows, size_t classes, float *powers,
                                 size_t power_stride)
{
    struct softmax found = {column(logits, stride, rows, 0), all(0), {0}};
    for (size_t k = 1; k < classes; k++) {
        vec logit = column(logits, stride, rows, k);
        ints larger = logit > found.top;
        found.top = chosen_float(larger, logit, found.top);
        found.likeliest = chosen_int(larger, (ints){0} + (int32_t)k, found.likeliest);
    }
    found.others = found.top - found.top; /* 0, or not a number if the logit is not finite */
    for (size_t k = 0; k < classes; k++) {
        ints other = found.likeliest != (int32_t)k;
        vec power = exponential(column(logits, stride, rows, k) - found.top);
        found.others += (vec)((ints)power & other);
        if (powers) {
            power = chosen_float(other, power, all(1));
            for (size_t i = 0; i < WIDTH && i < rows; i++)
                powers[i * power_stride + k] = power[i];
        }
    }
    return found;
}

/* Write 1 + x of WIDTH floats to `totals`, and the logarithms of these to `logarithms`. */
INLINE void add_1(vec x, double *totals, double *logarithms)
{
    for (size_t i = 0; i < WIDTH; i++)
        totals[i] = 1 + (double)x[i];
    for (size_t i = 0; i < WIDTH; i += VECTOR / 8) {
        reals total;
        memcpy(&total, totals + i, VECTOR);
        total = logarithm(total);
        memcpy(logarithms + i, &total, VECTOR);
    }
}

static void ISA(score)(const float *logits, size_t stride, size_t rows, size_t classes, const int64_t *labels,
                             float *dlogits, size_t dstride, double *sums)
{
    double loss = 0;
    size_t right = 0;
    for (size_t first = 0; first < rows; first += WIDTH) {
        size_t count = rows - first < WIDTH ? rows - first : WIDTH;
        const float *own = logits + first * stride;
        float *gradient = dlogits + first * dstride;
        double totals[WIDTH], logarithms[WIDTH];
        struct softmax found = softmax_of(own, stride, count, classes, gradient, dstride);
        vec share = 1 / (1 + found.others);
        add_1(found.others, totals, logarithms);
        for (size_t i = 0; i < count; i++, own += stride, gradient += dstride) {
            size_t label = (size_t)labels[first + i];
            int hit = label == (size_t)found.likeliest[i];
            loss += logarithms[i] + ((double)found.top[i] - own[label]);
            right += (size_t)hit;
            for (size_t k = 0; k < classes; k++)
                gradient[k] *= share[i];
            gradient[label] = hit ? -found.others[i] * share[i] : gradient[label] - 1; /* the share of all others */
        }
    }
    sums[0] = loss;
    sums[1] = (double)right;
}

static size_t ISA(evaluate)(const float *logits, size_t stride, size_t rows, size_t classes, const int64_t *labels,
                            double *sums, int64_t *codes, double *calibration, size_t bins)
{
    sums[0] = sums[1] = 0;
    memset(codes, 0, rows * sizeof *codes);
    memset(calibration, 0, 3 * bins * sizeof *calibration);
    for (size_t first = 0; first < rows; first += WIDTH) {
        size_t count = rows - first < WIDTH ? rows - first : WIDTH;
        const float *own = logits + first * stride;
        double totals[WIDTH], logarithms[WIDTH];
        struct softmax found = softmax_of(own, stride, count, classes, NULL, 0);
        add_1(found.others, totals, logarithms);
        for (size_t i = 0; i < count; i++, own += stride) {
            size_t label = (size_t)labels[first + i], predicted = (size_t)found.likeliest[i], likelier = 0;
            if (label >= classes) /* also true of a negative label */
                return first + i;
            for (size_t k = 0; k < classes; k++)
                likelier += own[k] > own[label]; /* a tie counts as right */
            double confidence = 1 / totals[i];
            size_t bin = confidence >= 0 ? (size_t)(confidence * (double)bins) : 0;
            bin = bin < bins ? bin : bins - 1;
            sums[0] += logarithms[i] + ((double)found.top[i] - own[label]);
            sums[1] += likelier < 3;
            codes[first + i] = (int64_t)(label * classes + predicted);
            calibration[3 * bin]++;
            calibration[3 * bin + 1] += confidence;
            calibration[3 * bin + 2] += predicted == label;
        }
    }
    return rows;
}

/* Replace each of `count` numbers by its exponential. */
static void ISA(exponentials)(float *numbers, size_t count)
{
    for (size_t first = 0; first < count; first += WIDTH) {
        size_t left = count - first < WIDTH ? count - first : WIDTH;
        float values[WIDTH] = {0};
        memcpy(values, numbers + first, left * sizeof *values);
        store(values, exponential(load(values)));
        memcpy(numbers + first, values, left * sizeof *values);
    }
}
