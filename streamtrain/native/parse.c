/* See parse.py. Four zeros, which are most of a digit's image, take one load and one store. Otherwise 16 bytes are
   tested at once: they hold four whole values of up to three digits. The bytes that are not digits end the values, so
   there is no branch on the length of each. Everything else in a row is read cell by cell. */

#define PATIENCE 4 /* values that are read one by one before fours are tried again; doubles each time */

/* Return one bit for each byte of a mask of 0 and 255; the lowest bit is the first byte. */
INLINE uint32_t bits_of(bytes16 mask)
{
#if defined(__x86_64__)
    return (uint32_t)_mm_movemask_epi8((__m128i)mask);
#elif defined(__aarch64__)
    const bytes16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t marked = (uint8x16_t)(mask & bit);
    return vaddv_u8(vget_low_u8(marked)) | (uint32_t)vaddv_u8(vget_high_u8(marked)) << 8;
#else
    uint32_t bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
#endif
}

/* Return the value of the 1 to 3 digits at `at`. */
INLINE uint32_t short_number(const uint8_t *at, uint32_t digits)
{
    uint32_t word;
    memcpy(&word, at, 4);
    word = (word ^ 0x30303030) << (32 - 8 * digits); /* its last digit is the highest byte now */
    return (word >> 24) + 10 * (word >> 16 & 255) + 100 * (word >> 8 & 255);
}

/* Read four values, each with a delimiter after it; return the position after them, or NULL. */
INLINE const uint8_t *four_values(const uint8_t *at, const struct layout *how, uint8_t *pixels)
{
    bytes16 text;
    memcpy(&text, at, 16);
    uint32_t marks = bits_of((bytes16)((text - (uint8_t)48) > (uint8_t)9)); /* of bytes that are not digits */
    uint32_t marks_2 = marks & (marks - 1), marks_3 = marks_2 & (marks_2 - 1); /* from the second on */
    uint32_t marks_4 = marks_3 & (marks_3 - 1);
    uint32_t reached = marks_4 ^ (marks_4 - 1); /* the bits up to the fourth mark; all bits if there is no fourth */
    uint32_t digits = ~marks, faults = marks ^ bits_of((bytes16)(text == how->delimiter));
    faults |= marks & (marks << 1 | 1);                          /* a value without a digit */
    faults |= digits & digits >> 1 & digits >> 2 & digits >> 3; /* or a value of four digits */
    if (faults & reached & 0xFFFF || !marks_4)
        return NULL;
    uint32_t end = (uint32_t)__builtin_ctz(marks), end_2 = (uint32_t)__builtin_ctz(marks_2);
    uint32_t end_3 = (uint32_t)__builtin_ctz(marks_3), end_4 = (uint32_t)__builtin_ctz(marks_4);
    uint32_t value = short_number(at, end), value_2 = short_number(at + end + 1, end_2 - end - 1);
    uint32_t value_3 = short_number(at + end_2 + 1, end_3 - end_2 - 1);
    uint32_t value_4 = short_number(at + end_3 + 1, end_4 - end_3 - 1);
    uint32_t low = how->byte_low, span = how->byte_span;
    if ((value - low > span) | (value_2 - low > span) | (value_3 - low > span) | (value_4 - low > span))
        return NULL;
    uint32_t four = value | value_2 << 8 | value_3 << 16 | value_4 << 24;
    memcpy(pixels, &four, 4);
    return at + end_4 + 1;
}

INLINE void store_pixel(const size_t item, uint8_t *pixel, double value)
{
    if (item == 1)
        *pixel = (uint8_t)value;
    else if (item == 2)
        *(uint16_t *)pixel = (uint16_t)value;
    else
        *(float *)pixel = (float)value;
}

/* Read values by fours, each with a delimiter after it, into pixels of `item` bytes, while four are left before `stop`
   and easy to read. Advances *pixel; returns the position after them. */
INLINE const uint8_t *read_fours(const size_t item, const uint8_t *at, const struct layout *how, uint8_t **pixel,
                                 const uint8_t *stop)
{
    const struct layout local = *how; /* a value that no stored pixel has */
    const uint64_t four_zeros = 0x0030003000300030 | 0x0100010001000100 * (uint64_t)local.delimiter;
    uint8_t *to = *pixel;
    for (; to + 4 * item <= stop; to += 4 * item) {
        const uint8_t *after;
        if (load_8(at) == four_zeros && local.has_zero) {
            memset(to, 0, 4 * item);
            at += 8;
        } else if (item == 1 && (after = four_values(at, &local, to))) {
            at = after;
        } else {
            break;
        }
        if (local.delimiter == ' ')
            while (*at == ' ')
                at++;
    }
    *pixel = to;
    return at;
}

/* Store the pixel at *pixel once more for each cell that repeats the text from `cell` up to `at`, its delimiter included,
   while more are left before `stop`. Advances *pixel to the last of them; returns the position after it. */
INLINE const uint8_t *repeat_cell(const size_t item, const uint8_t *cell, const uint8_t *at, uint8_t delimiter,
                                  uint8_t **pixel, const uint8_t *stop)
{
    static const uint8_t ones_then_zeros[2 * PADDING] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    size_t length = (size_t)(at - cell);
    if (length > PADDING)
        return at;
    uint64_t text[PADDING / 8], mask[PADDING / 8];
    memcpy(text, cell, PADDING);
    memcpy(mask, ones_then_zeros + PADDING - length, PADDING);
    uint8_t *to = *pixel;
    while (to + item < stop && !((load_8(at) ^ text[0]) & mask[0]) &&
           !(((load_8(at + 8) ^ text[1]) & mask[1]) | ((load_8(at + 16) ^ text[2]) & mask[2]) |
             ((load_8(at + 24) ^ text[3]) & mask[3]))) {
        memcpy(to + item, to, item);
        to += item;
        at += length;
        while (delimiter == ' ' && *at == ' ')
            at++;
    }
    *pixel = to;
    return at;
}

/* Read `count` pixels of `item` bytes; a delimiter follows all but the last of a row. Return the position after them,
   or NULL. */
INLINE const uint8_t *read_items(const size_t item, const uint8_t *at, size_t count, int last,
                                 const struct layout *how, uint8_t *pixel)
{
    uint8_t *end = pixel + count * item, *before = end - (last ? item : 0);
    for (size_t patience = PATIENCE; pixel < end; patience *= patience < 64 ? 2 : 1) {
        uint8_t *start = pixel;
        at = read_fours(item, at, how, &pixel, before);
        if (pixel > start)
            patience = PATIENCE;
        for (size_t i = 0; i < patience && pixel < end; i++, pixel += item) {
            const uint8_t *cell = at;
            double value;
            at = number_cell(at, how->delimiter, how->decimal, &value);
            if (!at || !(value >= how->low && value <= how->high) || (item < 4 && value != (double)(int64_t)value))
                return NULL;
            store_pixel(item, pixel, value);
            if (pixel < before) {
                if (!(at = skip_delimiter(at, how->delimiter)))
                    return NULL;
                at = repeat_cell(item, cell, at, how->delimiter, &pixel, before);
            }
        }
    }
    return at;
}

static const uint8_t *ISA(read_pixels)(const uint8_t *at, size_t count, int last, const struct layout *how,
                                       uint8_t *pixels)
{
    if (how->item == 1)
        return read_items(1, at, count, last, how, pixels);
    if (how->item == 2)
        return read_items(2, at, count, last, how, pixels);
    return read_items(4, at, count, last, how, pixels);
}

/* Read a label of `count` columns that hold one 1 among zeros. */
INLINE const uint8_t *read_onehot(const uint8_t *at, size_t count, const struct layout *how, int32_t *label)
{
    size_t ones = 0;
    for (size_t i = 0; i < count; i++) {
        double value;
        if (i && !(at = skip_delimiter(at, how->delimiter)))
            return NULL;
        if (!(at = number_cell(at, how->delimiter, 1, &value)) || !(value == 0 || value == 1))
            return NULL;
        *label = value == 1 ? (int32_t)i : *label;
        ones += value == 1;
    }
    return ones == 1 ? at : NULL;
}

/* Read a label that is text: a word, or one digit for each class, of which one is 1. */
INLINE const uint8_t *read_text_label(const uint8_t *at, const struct layout *how, struct words *words, int guarded,
                                      int32_t *label)
{
    const uint8_t *text, *end;
    if (!(at = text_cell(at, how->delimiter, &text, &end)))
        return NULL;
    size_t length = (size_t)(end - text), ones = 0;
    if (guarded && same_text(text, length, how->guard, how->guard_length))
        return NULL;
    if (how->label_kind != DIGITS)
        return (*label = ISA(index_of_word)(how, words, text, length)) < 0 ? NULL : at;
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '0' && text[i] != '1')
            return NULL;
        *label = text[i] == '1' ? (int32_t)i : *label;
        ones += text[i] == '1';
    }
    return ones == 1 && length == how->class_count ? at : NULL;
}

/* Read a label of `count` columns; return the position after it, or NULL. */
INLINE const uint8_t *read_label(const uint8_t *at, size_t count, const struct layout *how, struct words *words,
                                 int guarded, int32_t *label)
{
    double value;
    if (how->label_kind == ONEHOT)
        return read_onehot(at, count, how, label);
    if (how->label_kind != NUMBER && how->label_kind != DECIMAL)
        return read_text_label(at, how, words, guarded, label);
    at = number_cell(at, how->delimiter, 1, &value);
    if (!at || !(value >= 0 && value < (double)how->class_count) || value != (double)(size_t)value)
        return NULL;
    return (*label = how->classes[(size_t)value]) < 0 ? NULL : at;
}

/* Return the position after the line break at `at`, or NULL; the end of the text counts as one. */
INLINE const uint8_t *line_end(const uint8_t *at, const uint8_t *stop)
{
    if (at < stop && *at == RETURN)
        at++;
    return at >= stop || *at == NEWLINE ? at + 1 : NULL;
}

/* Skip cells that are left out; a delimiter follows all but the last of a row. */
INLINE const uint8_t *read_dropped(const uint8_t *at, size_t count, int last, const struct layout *how, size_t column)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *text, *end;
        if (!(at = text_cell(at, how->delimiter, &text, &end)))
            return NULL;
        if (column + i == how->guard_column && same_text(text, (size_t)(end - text), how->guard, how->guard_length))
            return NULL;
        if ((i + 1 < count || !last) && !(at = skip_delimiter(at, how->delimiter)))
            return NULL;
    }
    return at;
}

/* Read a row; return the position of the next line, or NULL. */
INLINE const uint8_t *read_row(const uint8_t *at, const uint8_t *stop, const struct layout *how, struct words *words,
                               uint8_t *pixels, int32_t *label)
{
    const uint8_t delimiter = how->delimiter;
    const uint8_t *first = at;
    while (*first == ' ' || *first == '\t')
        first++;
    if (*first == '#')
        return NULL;
    while (delimiter == ' ' && *at == ' ')
        at++;
    *label = -1;
    size_t column = 0;
    for (size_t s = 0; s < how->parts; s++) {
        size_t count = (size_t)how->part[2 * s + 1];
        int last = s + 1 == how->parts, role = how->part[2 * s];
        if (role == PIXEL) {
            at = ISA(read_pixels)(at, count, last, how, pixels);
            pixels += count * how->item;
        } else if (role == DROPPED) {
            at = read_dropped(at, count, last, how, column);
        } else if ((at = read_label(at, count, how, words, column == how->guard_column, label)) && !last) {
            at = skip_delimiter(at, delimiter);
        }
        if (!at)
            return NULL;
        column += count;
    }
    while (delimiter == ' ' && *at == ' ')
        at++;
    if (how->trailing && *at == delimiter)
        at = skip_blanks(at + 1, delimiter);
    return line_end(at, stop);
}

/* Do the same, and remove the word that a refused row has added. */
INLINE const uint8_t *keep_row(const uint8_t *at, const uint8_t *stop, const struct layout *how, struct words *words,
                               uint8_t *pixels, int32_t *label)
{
    words->added = NULL;
    if ((at = read_row(at, stop, how, words, pixels, label)) || !words->added)
        return at;
    *words->added = 0;
    words->count--;
    return NULL;
}

static size_t ISA(parse)(const uint8_t *data, size_t size, const struct layout *how, struct words *words, size_t skip,
                       size_t rows, uint8_t *pixels, int32_t *labels, int32_t *lines, int32_t *odd, size_t odd_rows, int64_t *counts)
{
    const uint8_t *at = data, *stop = data + size;
    for (size_t i = 0, start = 0; i < words->count; start = (size_t)words->ends[i++])
        *slot_of(words, words->text + start, (size_t)words->ends[i] - start) = (int32_t)i + 1;
    size_t kept = 0, refused = 0, width = how->features * how->item;
    int32_t line = 0;
    int64_t blank = 0;
    for (; at < stop; line++) {
        const uint8_t *after = line_end(at, stop);
        if (after) {
            blank++;
        } else if ((size_t)line >= skip && kept < rows &&
                   (after = keep_row(at, stop, how, words, pixels + kept * width, labels + kept))) {
            lines[kept++] = line;
        } else if (refused == odd_rows) {
            return 0;
        } else {
            after = memchr(at, NEWLINE, (size_t)(stop - at));
            after = after ? after + 1 : stop;
            odd[3 * refused] = line;
            odd[3 * refused + 1] = (int32_t)(at - data);
            odd[3 * refused++ + 2] = (int32_t)(after - data);
        }
        at = after;
    }
    counts[0] = (int64_t)kept;
    counts[1] = blank;
    counts[2] = (int64_t)refused;
    return 1;
}

static size_t ISA(count_lines)(const uint8_t *data, size_t size)
{
    size_t lines = 0;
    for (size_t at = 0; at < size; at++)
        lines += data[at] == NEWLINE;
    return lines + (size && data[size - 1] != NEWLINE);
}

static void ISA(end_lines)(uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size; at++)
        if (data[at] == RETURN && (at + 1 == size || data[at + 1] != NEWLINE))
            data[at] = NEWLINE;
}
