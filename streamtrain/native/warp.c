/* See warp.py. All numbers are integers: coordinates in 1/256 of a pixel, the affine map in 1/65536. */

#define GRID 7         /* control points of a field along each side */
#define MOST_SIDE 1024 /* of an image */

/* sums[x] = the average of four rows of `width` numbers with weights in 1/256. */
INLINE void blend(int32_t *sums, const int32_t *rows, size_t stride, const int32_t *weights, size_t width)
{
    const int32_t *r0 = rows, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    int32_t w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
    for (size_t x = 0; x < width; x++)
        sums[x] = (w0 * r0[x] + w1 * r1[x] + w2 * r2[x] + w3 * r3[x] + 128) >> 8;
}

/* columns[i][x] = the field of each control row i at column x. */
INLINE void spread_columns(int32_t *columns, const int32_t *grid, const int32_t *spline, size_t width)
{
    for (size_t x = 0; x < width; x++) {
        const int32_t *s = spline + 5 * x;
        for (size_t i = 0; i < GRID; i++) {
            const int32_t *c = grid + i * GRID + s[0];
            columns[i * MOST_SIDE + x] = (s[1] * c[0] + s[2] * c[1] + s[3] * c[2] + s[4] * c[3] + 128) >> 8;
        }
    }
}

/* at[x] = the coordinate that column x comes from, kept within 0 .. limit. */
INLINE void place(int32_t *at, int32_t step, int32_t start, const int32_t *field, size_t width, int32_t limit)
{
    for (size_t x = 0; x < width; x++) {
        int32_t coordinate = ((step * (int32_t)x + start) >> 8) + field[x];
        coordinate = coordinate < 0 ? 0 : coordinate;
        at[x] = coordinate > limit ? limit : coordinate;
    }
}

static void ISA(warp)(const uint8_t *pixels, size_t rows, size_t height, size_t width, const int32_t *affine,
                      const int32_t *grid, const int32_t *spline_y, const int32_t *spline_x, uint8_t *out)
{
    int32_t columns[2][GRID * MOST_SIDE], field[2][MOST_SIDE] = {{0}}, at[2][MOST_SIDE];
    int32_t last_x = (int32_t)width - 2, last_y = (int32_t)height - 2;
    for (size_t row = 0; row < rows; row++, pixels += height * width, affine += 6) {
        for (int axis = 0; grid && axis < 2; axis++, grid += GRID * GRID)
            spread_columns(columns[axis], grid, spline_x, width);
        for (size_t y = 0; y < height; y++) {
            const int32_t *s = spline_y + 5 * y;
            for (int axis = 0; axis < 2; axis++) {
                const int32_t *a = affine + 3 * axis;
                if (grid)
                    blend(field[axis], columns[axis] + s[0] * MOST_SIDE, MOST_SIDE, s + 1, width);
                place(at[axis], a[0], a[1] * (int32_t)y + a[2], field[axis], width,
                      ((axis ? last_y : last_x) + 1) << 8);
            }
            for (size_t x = 0; x < width; x++) {
                int32_t left = at[0][x] >> 8, top = at[1][x] >> 8;
                left = left > last_x ? last_x : left;
                top = top > last_y ? last_y : top;
                int32_t right = at[0][x] - (left << 8), below = at[1][x] - (top << 8); /* their shares */
                const uint8_t *p = pixels + (size_t)top * width + (size_t)left;
                int32_t upper = p[0] * (256 - right) + p[1] * right;
                int32_t lower = p[width] * (256 - right) + p[width + 1] * right;
                *out++ = (uint8_t)((upper * (256 - below) + lower * below + 32768) >> 16);
            }
        }
    }
}
