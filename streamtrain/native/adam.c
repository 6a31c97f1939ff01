/* See adam.py. Nothing is fused here: NumPy gives the same bits, and memory is what limits the loop. */

INLINE void adam_vector(float *p, float *m, float *v, const float *g, const float *numbers)
{
    vec gradient = load(g);
    vec first = all(numbers[0]) * load(m) + all(numbers[1]) * gradient;
    vec second = all(numbers[2]) * load(v) + all(numbers[3]) * (gradient * gradient);
    vec divisor = square_root(second) * all(numbers[6]) + all(numbers[7]);
    store(m, first);
    store(v, second);
    store(p, all(numbers[4]) * load(p) - all(numbers[5]) * first / divisor);
}

static void ISA(adam)(float *p, float *m, float *v, const float *g, size_t count, const float *given)
{
    float numbers[8], last[4][WIDTH] = {{0}};
    memcpy(numbers, given, sizeof numbers);
    size_t whole = count - count % WIDTH, bytes = 4 * (count - whole);
    for (size_t at = 0; at < whole; at += WIDTH)
        adam_vector(p + at, m + at, v + at, g + at, numbers);
    memcpy(last[0], p + whole, bytes);
    memcpy(last[1], m + whole, bytes);
    memcpy(last[2], v + whole, bytes);
    memcpy(last[3], g + whole, bytes);
    adam_vector(last[0], last[1], last[2], last[3], numbers);
    memcpy(p + whole, last[0], bytes);
    memcpy(m + whole, last[1], bytes);
    memcpy(v + whole, last[2], bytes);
}
