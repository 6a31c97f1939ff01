/* The loops as functions of Python over arrays, in the limited API: one build for every Python from 3.11.

   An array is any object with the buffer protocol. Its type, its dimensions and its lengths are checked here, and the
   loops run without the GIL. The Python modules of this folder specify and document the functions. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "loops.h"

#ifndef SOURCES
#define SOURCES "unknown" /* a digest of the sources, from setup.py */
#endif

static const struct loops *loops;

struct argument {
    Py_buffer view;   /* arrays only */
    void *data;       /* NULL for a number */
    size_t shape[3];  /* arrays only */
    Py_ssize_t whole; /* integers only */
    double real;
};

static void release(struct argument *arguments, int count)
{
    for (int i = 0; i < count; i++)
        if (arguments[i].data)
            PyBuffer_Release(&arguments[i].view);
}

/* Whether a format of the buffer protocol is of the given kind: B, H and I unsigned, i and q signed, f and d real, P
   any type of a pixel. */
static int is_kind(const char *format, char kind, Py_ssize_t size)
{
    static const struct {
        char kind;
        Py_ssize_t size;
        const char *formats;
    } kinds[] = {{'B', 1, "B"},    {'H', 2, "H"}, {'I', 4, "IL"}, {'i', 4, "il"},
                 {'q', 8, "lq"}, {'f', 4, "f"}, {'d', 8, "d"}};
    if (kind == 'P')
        return is_kind(format, 'B', size) || is_kind(format, 'H', size) || is_kind(format, 'f', size);
    if (format && (*format == '<' || *format == '=')) /* this processor's order of bytes */
        format++;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].kind == kind)
            return size == kinds[i].size && format && format[0] && !format[1] && strchr(kinds[i].formats, *format);
    return 0;
}

static int get_array(PyObject *given, char kind, int dimensions, int written, struct argument *to, const char *name,
                     int number)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(given, &to->view, flags))
        return 0;
    to->data = to->view.buf ? to->view.buf : to; /* NULL would mean a number */
    if (to->view.ndim != dimensions || !is_kind(to->view.format, kind, to->view.itemsize)) {
        PyErr_Format(PyExc_TypeError, "%s: argument %d has format %s and %d dimensions, not %c and %d", name, number,
                     to->view.format ? to->view.format : "B", to->view.ndim, kind, dimensions);
        return 0;
    }
    for (int d = 0; d < dimensions; d++)
        to->shape[d] = (size_t)to->view.shape[d];
    return 1;
}

/* Read the arguments that `kinds` describes: n an integer, g a real number, otherwise the kind of an array and its
   dimensions, after = if it is written to. Returns 0 on failure. The caller releases the arguments in both cases. */
static int get(const char *name, const char *kinds, PyObject *const *given, Py_ssize_t count, struct argument *to)
{
    int i = 0;
    for (; *kinds; i++, kinds++) {
        if (i == count)
            break;
        if (*kinds == 'n') {
            to[i].whole = PyNumber_AsSsize_t(given[i], PyExc_OverflowError);
            if (to[i].whole == -1 && PyErr_Occurred())
                return 0;
        } else if (*kinds == 'g') {
            to[i].real = PyFloat_AsDouble(given[i]);
            if (to[i].real == -1 && PyErr_Occurred())
                return 0;
        } else {
            int written = *kinds == '=';
            kinds += written;
            if (!get_array(given[i], kinds[0], kinds[1] - '0', written, to + i, name, i + 1))
                return 0;
            kinds++;
        }
    }
    if (i == count && !*kinds)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s does not take %zd arguments", name, count);
    return 0;
}

/* Define the Python function `name` with `count` arguments `a`: test CHECK, then run value = BODY without the GIL. */
#define FUNCTION(name, count, kinds, CHECK, BODY, RESULT)                                                              \
    static PyObject *py_##name(PyObject *Py_UNUSED(self), PyObject *const *given, Py_ssize_t given_count)              \
    {                                                                                                                  \
        struct argument a[count];                                                                                      \
        PyObject *result = NULL;                                                                                       \
        size_t value = 0;                                                                                              \
        memset(a, 0, sizeof a);                                                                                        \
        if (get(#name, kinds, given, given_count, a)) {                                                                \
            if (CHECK) {                                                                                               \
                Py_BEGIN_ALLOW_THREADS;                                                                                \
                value = BODY;                                                                                          \
                Py_END_ALLOW_THREADS;                                                                                  \
                result = RESULT;                                                                                       \
            } else {                                                                                                   \
                PyErr_SetString(PyExc_ValueError, #name ": the arrays do not fit each other");                         \
            }                                                                                                          \
        }                                                                                                              \
        release(a, count);                                                                                             \
        return result;                                                                                                 \
    }
#define NONE ((void)value, Py_NewRef(Py_None))
#define LENGTH(i) a[i].shape[0]
#define WIDTH(i) a[i].shape[1]
#define WHOLE(i) ((size_t)a[i].whole)

/* Whether all of `count` numbers are in 0 .. limit - 1. */
static int all_below(const int64_t *numbers, size_t count, size_t limit)
{
    uint64_t most = 0;
    for (size_t i = 0; i < count; i++)
        most = (uint64_t)numbers[i] > most ? (uint64_t)numbers[i] : most;
    return !count || most < limit;
}

enum { DATA, SIZE, PARTS, FLAGS, LIMITS, CLASSES, WORD_TEXT, WORD_ENDS, GUARD, SKIP, PIXELS, LABELS, LINES, ODD, COUNTS };

/* Whether the parts have as many pixels as a row of `pixels`, and at most one label. */
static int parts_fit(const struct argument *a)
{
    const int32_t *part = a[PARTS].data;
    size_t features = 0, labels = 0;
    for (size_t i = 0; i < LENGTH(PARTS); i++) {
        if (part[2 * i] < PIXEL || part[2 * i] > DROPPED || part[2 * i + 1] < 1)
            return 0;
        features += part[2 * i] == PIXEL ? (size_t)part[2 * i + 1] : 0;
        labels += part[2 * i] == LABEL;
    }
    return labels < 2 && features == WIDTH(PIXELS);
}

static int words_fit(const struct argument *a)
{
    const int32_t *ends = a[WORD_ENDS].data;
    int64_t count = ((int64_t *)a[FLAGS].data)[5], end = 0;
    if (count < 0 || (size_t)count > LENGTH(WORD_ENDS) || LENGTH(WORD_ENDS) > WORD_SLOTS / 2)
        return 0;
    for (int64_t i = 0; i < count; end = ends[i++])
        if (ends[i] < end || (size_t)ends[i] > LENGTH(WORD_TEXT))
            return 0;
    return 1;
}

static int parse_fits(const struct argument *a)
{
    size_t rows = LENGTH(PIXELS);
    return a[SIZE].whole >= 0 && WHOLE(SIZE) + PADDING <= LENGTH(DATA) && a[SIZE].whole < INT32_MAX &&
           WIDTH(PARTS) == 2 && LENGTH(FLAGS) == 6 && LENGTH(LIMITS) == 2 && LENGTH(LABELS) >= rows &&
           LENGTH(LINES) >= rows && WIDTH(ODD) == 3 && LENGTH(COUNTS) == 4 && (!rows || parts_fit(a)) && words_fit(a);
}

static size_t parse(const struct argument *a)
{
    const int64_t *flags = a[FLAGS].data;
    const double *limits = a[LIMITS].data;
    struct layout how = {.delimiter = (uint8_t)flags[0],
                         .decimal = flags[1] != 0,
                         .label_kind = (int)flags[2],
                         .trailing = flags[3] != 0,
                         .part = a[PARTS].data,
                         .parts = LENGTH(PARTS),
                         .features = WIDTH(PIXELS),
                         .item = (size_t)a[PIXELS].view.itemsize,
                         .low = limits[0],
                         .high = limits[1],
                         .classes = a[CLASSES].data,
                         .class_count = LENGTH(CLASSES),
                         .guard_column = flags[4] < 0 ? SIZE_MAX : (size_t)flags[4],
                         .guard = a[GUARD].data,
                         .guard_length = LENGTH(GUARD)};
    set_byte_range(&how);
    struct words words = {.text = a[WORD_TEXT].data,
                          .ends = a[WORD_ENDS].data,
                          .text_room = LENGTH(WORD_TEXT),
                          .count = (size_t)flags[5],
                          .room = LENGTH(WORD_ENDS)};
    int64_t *counts = a[COUNTS].data;
    size_t complete = loops->parse(a[DATA].data, WHOLE(SIZE), &how, &words, WHOLE(SKIP), LENGTH(PIXELS), a[PIXELS].data,
                                   a[LABELS].data, a[LINES].data, a[ODD].data, LENGTH(ODD), counts);
    counts[3] = (int64_t)words.count;
    return complete;
}

static PyObject *parsed(size_t complete)
{
    if (complete)
        return Py_NewRef(Py_None);
    PyErr_SetString(PyExc_ValueError, "parse: more lines are refused than `odd` has room for");
    return NULL;
}

FUNCTION(parse, 15, "B1ni2q1d1i1=B1=i1B1n=P2=i1=i1=i2=q1", parse_fits(a), parse(a), parsed(value))

FUNCTION(count_lines, 2, "B1n", WHOLE(1) <= LENGTH(0), loops->count_lines(a[0].data, WHOLE(1)),
         PyLong_FromSize_t(value))

FUNCTION(end_lines, 3, "=B1nn", WHOLE(1) <= WHOLE(2) && WHOLE(2) <= LENGTH(0),
         (loops->end_lines((uint8_t *)a[0].data + a[1].whole, WHOLE(2) - WHOLE(1)), 0), NONE)

static int gather_fits(const struct argument *a)
{
    size_t at = WHOLE(4), rows = LENGTH(5);
    if (at > LENGTH(1) || rows > LENGTH(1) - at || WIDTH(5) != WIDTH(0))
        return 0;
    size_t asked = LENGTH(1) - at < rows + AHEAD ? LENGTH(1) - at : rows + AHEAD;
    return all_below((int64_t *)a[1].data + at, asked, LENGTH(0));
}

FUNCTION(gather_scaled, 6, "B2q1ggn=f2", gather_fits(a),
         (loops->gather_scaled(a[0].data, WIDTH(0), (int64_t *)a[1].data + a[4].whole, LENGTH(1) - WHOLE(4),
                               (float)a[2].real, (float)a[3].real, LENGTH(5), a[5].data),
          0),
         NONE)

static int add_rows_fit(const struct argument *a)
{
    size_t features = WIDTH(0), groups = LENGTH(2);
    return LENGTH(1) == LENGTH(0) && all_below(a[1].data, LENGTH(1), groups) && WIDTH(2) == features &&
           LENGTH(3) == features && LENGTH(4) == features && LENGTH(5) == features && features && groups;
}

FUNCTION(add_rows, 6, "B2q1=q2=q1=B1=B1", add_rows_fit(a),
         loops->add_rows(a[0].data, LENGTH(0), WIDTH(0), a[1].data, LENGTH(2), a[2].data, a[3].data, a[4].data,
                         a[5].data),
         value ? NONE : PyErr_NoMemory())

FUNCTION(evaluate, 6, "f2nq1=d1=q1=d2",
         LENGTH(2) == LENGTH(0) && a[1].whole > 0 && WHOLE(1) <= WIDTH(0) && LENGTH(3) == 2 && LENGTH(4) == LENGTH(0) &&
             LENGTH(5) && WIDTH(5) == 3,
         loops->evaluate(a[0].data, WIDTH(0), LENGTH(0), WHOLE(1), a[2].data, a[3].data, a[4].data, a[5].data,
                         LENGTH(5)),
         PyLong_FromSize_t(value))

/* The number of rows in `pixels`, which has as many numbers in each row as `features` is long. */
#define ROWS(pixels, features) (LENGTH(features) ? LENGTH(pixels) / LENGTH(features) : 0)

FUNCTION(list_nonzero, 3, "=I1=I2B1",
         LENGTH(0) && LENGTH(1) == LENGTH(0) && LENGTH(2) % LENGTH(0) == 0 && ROWS(2, 0) <= WIDTH(1) &&
             ROWS(2, 0) < 1 << 24,
         (loops->list_nonzero(a[0].data, a[1].data, WIDTH(1), a[2].data, ROWS(2, 0), LENGTH(0)), 0), NONE)

FUNCTION(forward, 5, "f1f2f1=f2B1",
         LENGTH(0) == 256 && LENGTH(1) && WIDTH(1) && WIDTH(1) % LANES == 0 && LENGTH(2) == WIDTH(1) &&
             WIDTH(3) == WIDTH(1) && LENGTH(4) % LENGTH(1) == 0 && ROWS(4, 1) <= LENGTH(3),
         (loops->forward(a[0].data, a[1].data, a[2].data, a[3].data, a[4].data, ROWS(4, 1), LENGTH(1), WIDTH(1)), 0),
         NONE)

/* Whether the arrays are as list_nonzero made them for the rows of dz, so that every index is inside them. */
static int accumulate_fits(const struct argument *a)
{
    const uint32_t *counts = a[1].data, *shares = a[2].data;
    size_t features = LENGTH(4), units = WIDTH(4), width = WIDTH(2), rows = LENGTH(3);
    if (LENGTH(0) != 256 || LENGTH(1) != features || LENGTH(2) != features || WIDTH(3) != units || units == 0 ||
        units % LANES || LENGTH(5) != units)
        return 0;
    for (size_t place = 0; place < features; place++)
        if (counts[place] > width || (counts[place] && shares[place * width + counts[place] - 1] >> 8 >= rows))
            return 0; /* rows ascend, so the last one is the highest */
    return 1;
}

FUNCTION(accumulate, 8, "f1I1I2f2=f2=f1gg", accumulate_fits(a),
         (loops->accumulate(a[0].data, a[1].data, a[2].data, WIDTH(2), a[3].data, LENGTH(3), (float)a[6].real,
                            (float)a[7].real, a[4].data, a[5].data, LENGTH(4), WIDTH(4)),
          0),
         NONE)

FUNCTION(score, 5, "f2nq1=f2=d1",
         LENGTH(3) == LENGTH(0) && LENGTH(2) == LENGTH(0) && WHOLE(1) <= WIDTH(0) && WHOLE(1) <= WIDTH(3) &&
             a[1].whole > 0 && LENGTH(4) == 2 && all_below(a[2].data, LENGTH(2), WHOLE(1)),
         (loops->score(a[0].data, WIDTH(0), LENGTH(0), WHOLE(1), a[2].data, a[3].data, WIDTH(3), a[4].data), 0), NONE)

FUNCTION(exponentials, 1, "=f1", 1, (loops->exponentials(a[0].data, LENGTH(0)), 0), NONE)

enum { WINDOW, ORDER, SIZES, ACTIVATION, SKIPS_ZEROS, LOW, SPAN, PARAMETERS, ROOM, RESULT, TRUE_LABELS, TOTALS };

static struct net net_of(const struct argument *a)
{
    return (struct net){a[SIZES].data,
                        LENGTH(SIZES) - 1,
                        (enum activation)a[ACTIVATION].whole,
                        a[SKIPS_ZEROS].whole != 0,
                        (float)a[LOW].real,
                        (float)a[SPAN].real,
                        a[PARAMETERS].data};
}

static struct rows rows_of(const struct argument *a)
{
    return (struct rows){a[WINDOW].data, (size_t)a[WINDOW].view.itemsize, a[ORDER].data, LENGTH(ORDER)};
}

/* How many parameters a net of these sizes has, padded; 0 if the sizes are not valid. */
static size_t parameters_of(const int64_t *sizes, size_t count)
{
    size_t numbers = 0;
    for (size_t i = 0; i < count; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 24)
            return 0;
    for (size_t i = 1; i < count; i++)
        numbers += ((size_t)sizes[i - 1] + 1) * (((size_t)sizes[i] + LANES - 1) / LANES * LANES);
    return numbers;
}

/* most: rows that are computed at a time */
static int pass_fits(const struct argument *a, size_t most)
{
    const int64_t *sizes = a[SIZES].data;
    if (LENGTH(SIZES) < 2 || !LENGTH(PARAMETERS) || LENGTH(PARAMETERS) != parameters_of(sizes, LENGTH(SIZES)) ||
        (size_t)sizes[0] != WIDTH(WINDOW) || !LENGTH(ORDER) || !all_below(a[ORDER].data, LENGTH(ORDER), LENGTH(WINDOW)) ||
        a[ACTIVATION].whole < SIGMOID || a[ACTIVATION].whole > RELU)
        return 0;
    struct net net = net_of(a);
    return (!net.skips_zeros || (a[WINDOW].view.itemsize == 1 && !net.low)) &&
           loops->room(&net, LENGTH(ORDER) < most ? LENGTH(ORDER) : most) <= LENGTH(ROOM);
}

static size_t run_logits(const struct argument *a)
{
    struct net net = net_of(a);
    struct rows rows = rows_of(a);
    loops->logits(&net, &rows, a[ROOM].data, a[RESULT].data);
    return 0;
}

static size_t run_gradient(const struct argument *a)
{
    struct net net = net_of(a);
    struct rows rows = rows_of(a);
    loops->gradient(&net, &rows, a[TRUE_LABELS].data, a[ROOM].data, a[RESULT].data, a[TOTALS].data);
    return 0;
}

#define CLASSES_OF(a) ((size_t)((int64_t *)a[SIZES].data)[LENGTH(SIZES) - 1])

FUNCTION(logits, 10, "P2q1q1nnggf1=f1=f2",
         pass_fits(a, LOGIT_ROWS) && LENGTH(RESULT) >= LENGTH(ORDER) &&
             WIDTH(RESULT) == (CLASSES_OF(a) + LANES - 1) / LANES * LANES,
         run_logits(a), NONE)

FUNCTION(gradient, 12, "P2q1q1nnggf1=f1=f1q1=d1",
         pass_fits(a, SIZE_MAX) && LENGTH(RESULT) == LENGTH(PARAMETERS) && LENGTH(TRUE_LABELS) == LENGTH(ORDER) &&
             LENGTH(TOTALS) == 2 && all_below(a[TRUE_LABELS].data, LENGTH(TRUE_LABELS), CLASSES_OF(a)),
         run_gradient(a), NONE)

FUNCTION(move, 7, "=f1=f1f1gggg",
         LENGTH(0) == LENGTH(2) && LENGTH(0) % LANES == 0 && (!LENGTH(1) || LENGTH(1) == LENGTH(0)),
         (loops->move(a[0].data, LENGTH(1) ? a[1].data : NULL, a[2].data, LENGTH(0), (float)a[3].real, (float)a[4].real,
                      (float)a[5].real, (float)a[6].real),
          0),
         NONE)

/* Return the length of `room` for a pass over some rows. */
static PyObject *room_needed(const struct argument *a)
{
    struct net net = {.sizes = a[0].data, .layers = LENGTH(0) - 1, .skips_zeros = a[1].whole != 0};
    return PyLong_FromSize_t(loops->room(&net, WHOLE(2)));
}

FUNCTION(room, 3, "q1nn", LENGTH(0) >= 2 && parameters_of(a[0].data, LENGTH(0)) && a[2].whole >= 0, 0,
         ((void)value, room_needed(a)))

FUNCTION(adam, 5, "=f1=f1=f1f1f1",
         LENGTH(1) == LENGTH(0) && LENGTH(2) == LENGTH(0) && LENGTH(3) == LENGTH(0) && LENGTH(4) == 8,
         (loops->adam(a[0].data, a[1].data, a[2].data, a[3].data, LENGTH(0), a[4].data), 0), NONE)

/* Whether each pixel names four of the control points. */
static int is_spline(const struct argument *spline)
{
    const int32_t *at = spline->data;
    for (size_t i = 0; i < spline->shape[0]; i++)
        if (at[5 * i] < 0 || at[5 * i] > 7 - 4)
            return 0;
    return spline->shape[1] == 5 && spline->shape[0] >= 2 && spline->shape[0] <= 1024;
}

static int warp_fits(const struct argument *a)
{
    size_t height = LENGTH(4), width = LENGTH(5), rows = LENGTH(0);
    return WHOLE(1) == height && is_spline(a + 4) && is_spline(a + 5) && WIDTH(0) == height * width &&
           LENGTH(2) == rows && WIDTH(2) == 6 && (LENGTH(3) == 0 || LENGTH(3) == rows) && WIDTH(3) == 2 * 7 * 7 &&
           LENGTH(6) == rows && WIDTH(6) == WIDTH(0);
}

FUNCTION(warp, 7, "B2ni2i2i2i2=B2", warp_fits(a),
         (loops->warp(a[0].data, LENGTH(0), LENGTH(4), LENGTH(5), a[2].data, LENGTH(3) ? a[3].data : NULL, a[4].data,
                      a[5].data, a[6].data),
          0),
         NONE)

#if defined(__x86_64__)
/* The result of cpuid, called here because not every compiler's library offers it. Leaf 7 gives 0 if it is missing. */
struct features {
    unsigned ecx_1, ebx_7;
    uint64_t saved; /* registers that the system saves: bit 2 is AVX, bits 5 to 7 are AVX-512 */
};

static struct features features(void)
{
    unsigned eax, ebx, ecx, edx, low = 0, high = 0;
    struct features found = {0, 0, 0};
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        found.ecx_1 = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        found.ebx_7 = ebx;
    if (found.ecx_1 & bit_OSXSAVE)
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    found.saved = (uint64_t)high << 32 | low;
    return found;
}

static int has(unsigned word, unsigned bits) { return (word & bits) == bits; }

static int has_v2(void) { return has(features().ecx_1, bit_SSE4_2 | bit_POPCNT | bit_SSSE3); }

static int has_v3(void)
{
    struct features f = features();
    return has_v2() && has(f.ecx_1, bit_AVX | bit_FMA) && has(f.ebx_7, bit_AVX2 | bit_BMI | bit_BMI2) &&
           (f.saved & 0x6) == 0x6;
}

static int has_v4(void)
{
    struct features f = features();
    return has_v3() && has(f.ebx_7, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL) &&
           (f.saved & 0xE6) == 0xE6;
}

static const struct {
    const struct loops *loops;
    int (*works)(void);
} builds[] = {{&loops_v4, has_v4}, {&loops_v3, has_v3}, {&loops_v2, has_v2}}; /* the best first */
#else
static int always(void) { return 1; }

static const struct {
    const struct loops *loops;
    int (*works)(void);
} builds[] = {{&loops_v2, always}};
#endif
#define BUILDS (sizeof builds / sizeof *builds)

/* Use the loops of an instruction set, by default the best. Returns 0 with an exception if it cannot run. */
static int use(const char *name)
{
    for (size_t i = 0; i < BUILDS; i++)
        if (builds[i].works() && (!name || !strcmp(name, builds[i].loops->name))) {
            loops = builds[i].loops;
            return 1;
        }
    PyErr_Format(name ? PyExc_ValueError : PyExc_ImportError, "this processor does not run the instruction set %s",
                 name ? name : "x86-64-v2");
    return 0;
}

static PyObject *py_select(PyObject *Py_UNUSED(self), PyObject *name)
{
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    return text && use(text) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *py_isa(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    return PyUnicode_FromString(loops->name);
}

static PyObject *py_isas(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names && i < BUILDS; i++) {
        PyObject *name = builds[i].works() ? PyUnicode_FromString(builds[i].loops->name) : NULL;
        if (PyErr_Occurred() || (name && PyList_Append(names, name)))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    METHOD(parse),       METHOD(count_lines), METHOD(end_lines),
    METHOD(gather_scaled), METHOD(add_rows),    METHOD(evaluate),
    METHOD(list_nonzero), METHOD(forward),     METHOD(accumulate),
    METHOD(score),       METHOD(exponentials), METHOD(room),
    METHOD(logits),      METHOD(gradient),    METHOD(move),
    METHOD(adam),        METHOD(warp),        {"select", py_select, METH_O, NULL},
    {"isa", py_isa, METH_NOARGS, NULL},       {"isas", py_isas, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static int start(PyObject *module)
{
    const char *wanted = getenv("STREAMTRAIN_ISA");
    if (!use(wanted && *wanted ? wanted : NULL))
        return -1;
    return PyModule_AddStringConstant(module, "SOURCES", SOURCES);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_core", "The inner loops in C.", 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
