/* Pillow's resampling of RGB images to the last bit, for the part that the crop keeps, with the processor's vectors.
 *
 * Pillow filters an 8-bit image in two passes, along the rows and down the columns, with a rounding to 8 bits between
 * them. Each sample is a sum of bytes times 32-bit integers of PRECISION fractional bits. The same integers are added
 * here, so the same bytes come out; what differs is the layout. Sums run over LANES neighbouring bytes at once, which
 * compilers turn into vector instructions. Down the columns neighbours lie side by side already. Along the rows they do
 * not: there ROWS rows are turned into a tile in which the pixels of one column lie side by side.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PRECISION 22
#define CHANNELS 3
#define SLOT 4 /* bytes of a pixel in a tile: a power of two, so that one copy moves it */
#define ROWS 16
#define LANES (ROWS * SLOT)
/* Sides that bound the memory of a tile and of the image between the passes to some tens of MB. */
#define LARGEST 65535

/* One build holds the inner loop for several generations of processors; the loader picks. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 11
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* What one output sample after another is made of: `count[i]` input samples from `first[i]` on, weights `width` apart. */
typedef struct {
    Py_ssize_t outputs, width, begin, end; /* begin, end: the input samples that are used at all */
    Py_ssize_t *first, *count;
    int32_t *weights;
} Taps;

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static void free_taps(Taps *taps)
{
    free(taps->first);
    free(taps->count);
    free(taps->weights);
}

/* The taps of the outputs `start` to `start + outputs` of an axis of `input` samples that becomes `resized`; 0, or -1
 * without memory. Sums and rounding go as Pillow's do, since the last bit of a weight can be seen. */
static int plan_taps(Taps *taps, Py_ssize_t input, Py_ssize_t resized, Py_ssize_t start, Py_ssize_t outputs, int cubic)
{
    double (*filter)(double) = cubic ? bicubic : bilinear;
    double scale = (double)input / (double)resized;
    double stretch = scale < 1.0 ? 1.0 : scale, inverse = 1.0 / stretch;
    double support = (cubic ? 2.0 : 1.0) * stretch;
    double *shares;

    memset(taps, 0, sizeof *taps);
    taps->outputs = outputs;
    taps->width = (Py_ssize_t)ceil(support) * 2 + 1;
    taps->first = malloc((size_t)outputs * sizeof *taps->first);
    taps->count = malloc((size_t)outputs * sizeof *taps->count);
    taps->weights = calloc((size_t)outputs * (size_t)taps->width, sizeof *taps->weights);
    shares = malloc((size_t)taps->width * sizeof *shares);
    if (!taps->first || !taps->count || !taps->weights || !shares) {
        free_taps(taps);
        free(shares);
        return -1;
    }
    for (Py_ssize_t i = 0; i < outputs; i++) {
        double center = (double)(start + i) + 0.5, sum = 0.0;
        int32_t *weights = taps->weights + i * taps->width;
        Py_ssize_t first, end;
        center *= scale;
        first = (Py_ssize_t)(center - support + 0.5);
        end = (Py_ssize_t)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > input ? input : end;
        for (Py_ssize_t j = 0; j < end - first; j++)
            sum += shares[j] = filter(((double)(j + first) - center + 0.5) * inverse);
        for (Py_ssize_t j = 0; j < end - first; j++) {
            double share = sum != 0.0 ? shares[j] / sum : shares[j];
            weights[j] = (int32_t)((share < 0 ? -0.5 : 0.5) + share * (1 << PRECISION));
        }
        taps->first[i] = first;
        taps->count[i] = end - first;
    }
    free(shares);
    taps->begin = taps->first[0];
    taps->end = taps->first[outputs - 1] + taps->count[outputs - 1];
    return 0;
}

static inline uint8_t round_sum(int32_t sum)
{
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Write `width` weighted sums of `count` rows that lie `step` bytes apart. Everything's time goes here. */
FOR_EACH_PROCESSOR
static void add_rows(const uint8_t *restrict rows, Py_ssize_t step, const int32_t *restrict weights, Py_ssize_t count,
                     uint8_t *restrict sums, Py_ssize_t width)
{
    Py_ssize_t x = 0;
    for (; x + LANES <= width; x += LANES) {
        int32_t lanes[LANES];
        for (int i = 0; i < LANES; i++)
            lanes[i] = 1 << (PRECISION - 1);
        for (Py_ssize_t j = 0; j < count; j++) {
            const uint8_t *row = rows + x + j * step;
            int32_t weight = weights[j];
            for (int i = 0; i < LANES; i++)
                lanes[i] += row[i] * weight;
        }
        for (int i = 0; i < LANES; i++)
            sums[x + i] = round_sum(lanes[i]);
    }
    for (; x < width; x++) {
        int32_t sum = 1 << (PRECISION - 1);
        for (Py_ssize_t j = 0; j < count; j++)
            sum += rows[x + j * step] * weights[j];
        sums[x] = round_sum(sum);
    }
}

/* Filter down the columns: `out` gets taps->outputs rows of `width` bytes; `rows` begins at row taps->begin. */
static void filter_columns(const uint8_t *rows, Py_ssize_t step, const Taps *taps, uint8_t *out, Py_ssize_t width)
{
    for (Py_ssize_t i = 0; i < taps->outputs; i++)
        add_rows(rows + (taps->first[i] - taps->begin) * step, step, taps->weights + i * taps->width, taps->count[i],
                 out + i * width, width);
}

/* Copy `count` pixels of 3 bytes from places `from` bytes apart to places `to` bytes apart. All but the last are moved
 * by 4 bytes at once, where the one too many is either written over next or lies in a slot's unused byte. */
static inline void move_pixels(const uint8_t *restrict source, Py_ssize_t from, uint8_t *restrict out, Py_ssize_t to,
                               Py_ssize_t count)
{
    for (; count > 1; count--, source += from, out += to)
        memcpy(out, source, SLOT);
    memcpy(out, source, CHANNELS);
}

/* Filter along `count` rows: `out` gets taps->outputs pixels for each; `rows` begins at pixel taps->begin. `tile` has
 * LANES bytes for each used input pixel and `sums` for each output pixel. */
static void filter_rows(const uint8_t *rows, Py_ssize_t step, Py_ssize_t count, const Taps *taps, uint8_t *out,
                        uint8_t *tile, uint8_t *sums)
{
    for (Py_ssize_t y = 0; y < count; y += ROWS) {
        Py_ssize_t height = count - y < ROWS ? count - y : ROWS;
        for (Py_ssize_t r = 0; r < height; r++)
            move_pixels(rows + (y + r) * step, CHANNELS, tile + r * SLOT, LANES, taps->end - taps->begin);
        for (Py_ssize_t i = 0; i < taps->outputs; i++)
            add_rows(tile + (taps->first[i] - taps->begin) * LANES, LANES, taps->weights + i * taps->width,
                     taps->count[i], sums + i * LANES, LANES);
        for (Py_ssize_t r = 0; r < height; r++)
            move_pixels(sums + r * SLOT, LANES, out + (y + r) * taps->outputs * CHANNELS, CHANNELS, taps->outputs);
    }
}

/* Both passes, from the first used pixel on; 0, or -1 without memory. */
static int filter_both(const uint8_t *pixels, Py_ssize_t step, const Taps *across, const Taps *down, int columns_first,
                       uint8_t *out)
{
    Py_ssize_t wide = across->end - across->begin, tall = down->end - down->begin;
    Py_ssize_t between = columns_first ? down->outputs * wide : tall * across->outputs;
    /* Of a tile the last rows may stay unwritten where few are left; their sums are not used, but shall be defined. */
    uint8_t *tile = calloc((size_t)wide, LANES);
    uint8_t *sums = malloc((size_t)across->outputs * LANES);
    uint8_t *half = malloc((size_t)between * CHANNELS);
    int done = tile && sums && half ? 0 : -1;

    pixels += down->begin * step + across->begin * CHANNELS;
    if (done == 0 && columns_first) {
        filter_columns(pixels, step, down, half, wide * CHANNELS);
        filter_rows(half, wide * CHANNELS, down->outputs, across, out, tile, sums);
    } else if (done == 0) {
        filter_rows(pixels, step, tall, across, half, tile, sums);
        filter_columns(half, across->outputs * CHANNELS, down, out, across->outputs * CHANNELS);
    }
    free(tile);
    free(sums);
    free(half);
    return done;
}

static PyObject *cut_square(PyObject *module, PyObject *args)
{
    Py_buffer pixels, out;
    Py_ssize_t width, height, resized_width, resized_height, left, top, side;
    int cubic, columns_first, done = -1;
    Taps across, down;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*(nn)(nn)(nn)npp", &pixels, &out, &width, &height, &resized_width, &resized_height,
                          &left, &top, &side, &cubic, &columns_first)) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "a size is too large; allowed: up to %d", LARGEST);
        }
        return NULL;
    }
    if (width < 1 || height < 1 || width > LARGEST || height > LARGEST || side < 1 || side > LARGEST ||
        resized_width > LARGEST || resized_height > LARGEST || left < 0 || top < 0 || left > resized_width - side ||
        top > resized_height - side || pixels.itemsize != 1 || out.itemsize != 1 ||
        pixels.len != (int64_t)width * height * CHANNELS || out.len != (int64_t)side * side * CHANNELS) {
        PyErr_Format(PyExc_ValueError,
                     "sizes that do not fit each other, or a side over 65,535: %zd x %zd pixels in %zd bytes become "
                     "%zd x %zd, of which %zd x %zd from %zd, %zd on go to %zd bytes; allowed: uint8",
                     width, height, pixels.len, resized_width, resized_height, side, side, left, top, out.len);
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    if (plan_taps(&across, width, resized_width, left, side, cubic) == 0) {
        if (plan_taps(&down, height, resized_height, top, side, cubic) == 0) {
            done = filter_both(pixels.buf, width * CHANNELS, &across, &down, columns_first, out.buf);
            free_taps(&down);
        }
        free_taps(&across);
    }
    Py_END_ALLOW_THREADS
    if (done < 0)
        PyErr_NoMemory();
end:
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&out);
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"cut_square", cut_square, METH_VARARGS,
     "cut_square(pixels, out, size, resized, corner, side, cubic, columns_first)\n--\n\n"
     "Resize RGB bytes of a width and height and write the square of a side at a corner of the resized image."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "clipworks.images._resampling", "Resampling as Pillow does it, compiled.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__resampling(void)
{
    return PyModule_Create(&definition);
}
