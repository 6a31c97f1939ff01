/* See evaluate.py. */

/* Return the sum over the classes of a row of e^(logit - top), added in lanes. */
INLINE double sum_of_powers(const float *logits, size_t classes, double top)
{
    double lanes[LANES] = {0};
    for (size_t first = 0; first < classes; first += LANES) {
        double powers[LANES];
        for (size_t i = 0; i < LANES; i++)
            powers[i] = first + i < classes ? logits[first + i] - top : -INFINITY;
        exponentials(powers);
        for (size_t i = 0; i < LANES; i++)
            lanes[i] += powers[i];
    }
    return sum_of(lanes);
}

static size_t ISA(evaluate)(const float *logits, size_t rows, size_t classes, const int64_t *labels, double *sums,
                            int64_t *codes, double *calibration, size_t bins)
{
    sums[0] = sums[1] = 0;
    memset(calibration, 0, 3 * bins * sizeof *calibration);
    for (size_t row = 0; row < rows; row++, logits += classes) {
        size_t label = (size_t)labels[row], predicted = 0, likelier = 0;
        if (label >= classes) /* also true of a negative label */
            return row;
        for (size_t k = 0; k < classes; k++) {
            predicted = logits[k] > logits[predicted] ? k : predicted;
            likelier += logits[k] > logits[label]; /* a tie counts as right */
        }
        double top = logits[predicted], total = sum_of_powers(logits, classes, top), confidence = 1 / total;
        size_t bin = confidence >= 0 ? (size_t)(confidence * (double)bins) : 0;
        bin = bin < bins ? bin : bins - 1;
        sums[0] += logarithm(total) + top - logits[label];
        sums[1] += likelier < 3;
        codes[row] = (int64_t)(label * classes + predicted);
        calibration[3 * bin]++;
        calibration[3 * bin + 1] += confidence;
        calibration[3 * bin + 2] += predicted == label;
    }
    return rows;
}
