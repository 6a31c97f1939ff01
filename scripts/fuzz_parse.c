/* A target of libFuzzer: the parser under the sanitizers, the same input by the loops of every instruction set.

   The first bytes of an input say how its rows are written (see fuzz_corpus.py), the rest are the rows. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loops.h"

#define MOST_PARTS 4
#define ROOM 64 /* words */
#define WORD_TEXT 512
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "not so: %s\n", #condition); \
            abort(); \
        } \
    } while (0)

static const uint8_t delimiters[] = {',', ';', '\t', ' ', '|', 1};
static const double limits[][2] = {{0, 255}, {0, 16}, {1, 99}, {0, 65535}, {0, 1}, {-3.4e38, 3.4e38}, {-1, 1}};
static const char *const declared[] = {"b", "Ankle boot", "\xc3\xa9", "label"};

/* What a parse writes, each array as long as it has to be, so that a byte more is noticed. */
struct result {
    uint8_t *pixels, *word_text;
    int32_t *labels, *lines, *odd, *word_ends;
    int64_t counts[4];
    size_t words, complete;
};

static void *array(size_t size) { return memset(malloc(size ? size : 1), 0xA5, size); }

static struct result parse(const struct loops *loops, const uint8_t *data, size_t size, const struct layout *how,
                           size_t skip, size_t rows, size_t lines)
{
    struct result out = {array(rows * how->features * how->item), array(WORD_TEXT), array(4 * rows), array(4 * rows),
                         array(12 * lines), array(4 * ROOM), {0}, 0, 0};
    struct words words = {.text = out.word_text, .ends = out.word_ends, .text_room = WORD_TEXT, .room = ROOM};
    if (how->label_kind == DECLARED_WORD)
        for (size_t i = 0, end = 0; i < sizeof declared / sizeof *declared; i++, words.count++) {
            memcpy(out.word_text + end, declared[i], strlen(declared[i]));
            out.word_ends[i] = (int32_t)(end += strlen(declared[i]));
        }
    out.complete = loops->parse(data, size, how, &words, skip, rows, out.pixels, out.labels, out.lines, out.odd,
                                lines, out.counts);
    out.words = words.count;
    return out;
}

static void release(struct result *of)
{
    free(of->pixels), free(of->word_text), free(of->labels), free(of->lines), free(of->odd), free(of->word_ends);
}

static double pixel(const struct result *of, const struct layout *how, size_t place)
{
    if (how->item == 1)
        return of->pixels[place];
    return how->item == 2 ? ((uint16_t *)of->pixels)[place] : ((float *)of->pixels)[place];
}

static void check(const struct result *of, const struct layout *how, size_t lines)
{
    size_t kept = (size_t)of->counts[0];
    CHECK(of->complete);
    CHECK(kept + (size_t)(of->counts[1] + of->counts[2]) == lines);
    for (size_t row = 0; row < kept; row++) {
        CHECK(of->labels[row] >= -1);
        CHECK(!row || of->lines[row] > of->lines[row - 1]);
        for (size_t j = 0; j < how->features; j++) {
            double value = pixel(of, how, row * how->features + j);
            CHECK(value >= (float)how->low && value <= (float)how->high);
        }
    }
}

static void compare(const struct result *one, const struct result *other, const struct layout *how)
{
    size_t kept = (size_t)one->counts[0];
    CHECK(!memcmp(one->counts, other->counts, sizeof one->counts) && one->words == other->words);
    CHECK(!memcmp(one->pixels, other->pixels, kept * how->features * how->item));
    CHECK(!memcmp(one->labels, other->labels, 4 * kept) && !memcmp(one->lines, other->lines, 4 * kept));
    CHECK(!memcmp(one->odd, other->odd, 12 * (size_t)one->counts[2]));
    CHECK(!memcmp(one->word_ends, other->word_ends, 4 * one->words));
}

/* Read how rows are written; return the length of that, or 0 if the input is too short. */
static size_t read_layout(const uint8_t *input, size_t size, struct layout *how, int32_t *parts, size_t *skip)
{
    static int32_t classes[11];
    for (int i = 0; i < 10; i++)
        classes[i] = i == 3 ? -1 : i;
    if (size < 5)
        return 0;
    size_t kind = input[3] % (sizeof limits / sizeof *limits), count = input[4] % (MOST_PARTS + 1);
    if (size < 5 + 2 * count)
        return 0;
    *how = (struct layout){.delimiter = delimiters[input[0] % sizeof delimiters],
                           .decimal = input[1] & 1,
                           .trailing = input[1] >> 1 & 1,
                           .label_kind = input[2] % (DIGITS + 1),
                           .part = parts,
                           .parts = count,
                           .item = (size_t)1 << (input[1] >> 3) % 3,
                           .low = limits[kind][0],
                           .high = limits[kind][1],
                           .classes = classes,
                           .class_count = 10,
                           .guard_column = input[1] & 4 ? 0 : (size_t)-1,
                           .guard = (const uint8_t *)"label",
                           .guard_length = 5};
    for (size_t i = 0; i < count; i++) {
        parts[2 * i] = input[5 + 2 * i] % 3;
        parts[2 * i + 1] = 1 + input[6 + 2 * i] % 20;
        how->features += parts[2 * i] == PIXEL ? (size_t)parts[2 * i + 1] : 0;
    }
    double most = how->item == 1 ? 255 : 65535;
    if (how->item < 4) { /* as the schema of a data set has it */
        how->low = how->low < 0 ? 0 : how->low;
        how->high = how->high > most ? most : how->high;
    }
    set_byte_range(how);
    *skip = input[1] >> 5 & 1;
    return 5 + 2 * count;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    const struct loops *others[] = {__builtin_cpu_supports("avx2") ? &loops_v3 : NULL,
                                    __builtin_cpu_supports("avx512bw") ? &loops_v4 : NULL};
    struct layout how;
    int32_t parts[2 * MOST_PARTS];
    size_t skip, start = read_layout(input, size, &how, parts, &skip);
    if (!start)
        return 0;
    size_t length = size - start, rows = length / 2 + 1;
    uint8_t *data = array(length + PADDING);
    memcpy(data, input + start, length);
    memset(data + length, NEWLINE, PADDING);
    loops_v2.end_lines(data, length);
    size_t lines = loops_v2.count_lines(data, length);
    struct result first = parse(&loops_v2, data, length, &how, skip, rows, lines);
    check(&first, &how, lines);
    for (size_t i = 0; i < 2; i++) {
        if (!others[i])
            continue;
        struct result other = parse(others[i], data, length, &how, skip, rows, lines);
        compare(&first, &other, &how);
        release(&other);
    }
    release(&first);
    free(data);
    return 0;
}
