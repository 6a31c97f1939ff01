/* Compute softmax - one_hot of each row, for logits of type REAL; see step.py. Included once for each type. */

static void SCORE(const REAL *logits, size_t stride, size_t rows, size_t classes, const int64_t *labels,
                  REAL *dlogits, size_t dstride, double *totals)
{
    double loss = 0;
    size_t right = 0;
    for (size_t row = 0; row < rows; row++, logits += stride, dlogits += dstride) {
        size_t likeliest = 0, label = (size_t)labels[row];
        double lanes[LANES] = {0};
        for (size_t k = 1; k < classes; k++)
            likeliest = logits[k] > logits[likeliest] ? k : likeliest;
        double top = logits[likeliest];
        for (size_t first = 0; first < classes; first += LANES) {
            double powers[LANES];
            for (size_t i = 0; i < LANES; i++)
                powers[i] = first + i < classes ? logits[first + i] - top : -INFINITY;
            exponentials(powers);
            for (size_t i = 0; i < LANES; i++)
                lanes[i] += powers[i];
            for (size_t i = 0; i < LANES && first + i < classes; i++)
                dlogits[first + i] = (REAL)powers[i];
        }
        double total = sum_of(lanes);
        loss += logarithm(total) + (top - logits[label]);
        for (size_t k = 0; k < classes; k++)
            dlogits[k] = (REAL)(dlogits[k] / total);
        dlogits[label] -= 1;
        right += likeliest == label;
    }
    totals[0] = loss;
    totals[1] = (double)right;
}
