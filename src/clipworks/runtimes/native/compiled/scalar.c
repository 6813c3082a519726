/* The scalar reference: what every kernel computes, in plain C and in double where sums are of floats. It runs anywhere,
 * and the tests hold all other instruction sets against it. */
#include "kernels.h"

#if COMPILED

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float read_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The nearest, of two equally near ones the even one; NaN stays NaN. */
static uint16_t round_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? 0x7FC0 : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float read_value(const void *values, long at, Format format)
{
    return format == BF16 ? read_bf16(((const uint16_t *)values)[at]) : ((const float *)values)[at];
}

static void write_value(void *values, long at, float x, Format format)
{
    if (format == BF16)
        ((uint16_t *)values)[at] = round_bf16(x);
    else
        ((float *)values)[at] = x;
}

static uint8_t quantize_value(float x, const Quantizer *quantizer)
{
    if (!isfinite(x))
        atomic_store_explicit(quantizer->broken, 1, memory_order_relaxed);
    const float whole = rintf(fminf(x * quantizer->inverse, 1e6f)) + (float)quantizer->zero_point;
    return whole >= 255 ? 255 : whole > 0 ? (uint8_t)whole : 0;
}

static float activate(float x, Activation activation)
{
    const double z = x;
    switch (activation) {
    case LINEAR:
        break;
    case QUICK_GELU:
        return (float)(z / (1 + exp(-1.702 * z)));
    case GELU:
        return (float)(z * 0.5 * erfc(-z * sqrt(0.5)));
    case GELU_TANH:
        return (float)(z * 0.5 * (1 + tanh(0.797884560802865 * (z + 0.044715 * z * z * z))));
    }
    return x;
}

static void finish(const Gemm *gemm, double sum, long row, long column)
{
    const Epilogue *epilogue = gemm->epilogue;
    row += gemm->row;
    column += gemm->column;
    if (epilogue->scales != NULL)
        sum *= epilogue->scales[column];
    const float x = activate((float)(sum + (epilogue->bias == NULL ? 0 : epilogue->bias[column])), epilogue->activation);
    const long place = row * epilogue->out_step + column;
    if (epilogue->format == INT8)
        ((uint8_t *)epilogue->out)[place] = quantize_value(x, epilogue->quantizer);
    else
        write_value(epilogue->out, place, epilogue->added == NULL ? x : x + epilogue->added[row * epilogue->added_step + column],
                    epilogue->format);
}

/* The sum of the products of all values of a row and a column, of one word after the other. */
static double multiply_words(const Gemm *gemm, long row, long column, Format format)
{
    double sum = 0;
    for (long k = 0; k < gemm->words; k++) {
        const uint32_t *a = gemm->a + row * gemm->a_step + k, *b = gemm->b + k * gemm->b_step + column;
        for (int i = 0; i < per_word[format]; i++)
            sum += format == INT8 ? ((const uint8_t *)a)[i] * ((const int8_t *)b)[i]
                                  : (double)read_value(a, i, format) * read_value(b, i, format);
    }
    return sum;
}

static void gemm_panel(const Gemm *gemm, long rows, long columns, Format format)
{
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < (gemm->epilogue == NULL ? round_up(columns, FILL) : columns); j++) {
            float *kept = gemm->sums + i * gemm->sums_step + j;
            double sum = multiply_words(gemm, i, j, format);
            if (gemm->add)
                sum += format == INT8 ? *(const int32_t *)kept : *kept;
            if (gemm->epilogue != NULL)
                finish(gemm, sum, i, j);
            else if (format == INT8)
                *(int32_t *)kept = (int32_t)sum;
            else
                *kept = (float)sum;
        }
    if (gemm->epilogue != NULL && gemm->epilogue->format == BF16 && columns % 2)
        for (long i = 0; i < rows; i++)
            ((uint16_t *)gemm->epilogue->out)[(gemm->row + i) * gemm->epilogue->out_step + gemm->column + columns] = 0;
}

static void normalize(const float *row, long width, float epsilon, const float *const norm[2], void *out, Format format)
{
    double sum = 0, squares = 0;
    for (long j = 0; j < width; j++)
        sum += row[j];
    const double mean = sum / (double)width;
    for (long j = 0; j < width; j++)
        squares += (row[j] - mean) * (row[j] - mean);
    double variance = squares / (double)width + epsilon;
    if (!(variance <= 3.40282347e38)) /* squares that overflow f32 are no reason for values of 0 */
        variance = NAN;
    for (long j = 0; j < width; j++) {
        const double x = (row[j] - mean) / sqrt(variance);
        write_value(out, j, (float)(norm == NULL ? x : x * norm[0][j] + norm[1][j]), format);
    }
    if (format == BF16 && width % 2)
        write_value(out, width, 0.0f, format);
}

static void convert(const float *row, long width, void *out, Format format)
{
    for (long j = 0; j < width; j++)
        write_value(out, j, row[j], format);
    if (format == BF16 && width % 2)
        write_value(out, width, 0.0f, format);
}

static void center_pixels(const uint8_t *pixels, long count, float center, void *out, Format format)
{
    for (long j = 0; j < count; j++)
        write_value(out, j, (float)pixels[j] - center, format);
}

/* One query over the places that it sees: its scores, their softmax, and the mean of the values. */
static void attend_place(const Attention *attention, long place, double *weights, void *out, Format format)
{
    const long side = attention->width / attention->heads, at = attention->head * side;
#define ROW(i) ((attention->index == NULL ? (i) : attention->index[i]) * attention->step)
    double most = -INFINITY, total = 0;
    for (long i = 0; i < attention->length; i++) {
        double score = 0;
        for (long j = 0; j < side; j++)
            score += (double)read_value(attention->qkv, ROW(place) + at + j, format) *
                     read_value(attention->qkv, ROW(i) + attention->width + at + j, format);
        weights[i] = attention->ends == NULL || (i <= place && attention->ends[i] > place) ? score : -INFINITY;
        most = weights[i] > most ? weights[i] : most;
    }
    for (long i = 0; i < attention->length; i++)
        total += weights[i] = weights[i] == -INFINITY ? 0 : exp(weights[i] - most);
    for (long j = 0; j < side; j++) {
        double mean = 0;
        for (long i = 0; i < attention->length; i++) {
            const float weight = (float)(weights[i] / total);
            mean += (format == BF16 ? read_bf16(round_bf16(weight)) : weight) *
                    (double)read_value(attention->qkv, ROW(i) + 2 * attention->width + at + j, format);
        }
        write_value(out, at + j, (float)mean, format);
    }
#undef ROW
}

static void attend(const Attention *attention, char *scratch, Format format)
{
    static const int sizes[FORMATS] = {4, 2, 1};
    double *weights = (double *)scratch; /* [length], in the room of scores */
    for (long place = 0; place < attention->length; place++) {
        const long owned = attention->owned == NULL ? place : attention->owned[place];
        if (attention->owned != NULL && (owned < attention->first || owned >= attention->first + attention->asked))
            continue;
        char *out = (char *)attention->out + (owned - attention->first) * attention->out_step * sizes[format];
        attend_place(attention, place, weights, out, format);
        if (format == BF16 && attention->width % 2 && attention->head == attention->heads - 1)
            write_value(out, attention->width, 0.0f, format);
    }
}

static void pool(const Pooling *pooling, char *scratch)
{
    const long width = pooling->width, full = round_up(width, FILL), length = pooling->length;
    float *normal = (float *)scratch; /* [length, width] */
    float *weights = normal + length * full;
    for (long i = 0; i < length; i++)
        normalize(pooling->rows + (pooling->index == NULL ? i : pooling->index[i]) * pooling->step, width, pooling->epsilon,
                  NULL, normal + i * width, F32);
    for (long head = 0; head < pooling->heads; head++) {
        float *query = pooling->queries + head * full;
        double most = -INFINITY, total = 0;
        for (long i = 0; i < length; i++) {
            double score = 0;
            for (long j = 0; j < width; j++)
                score += (double)normal[i * width + j] * query[j];
            weights[i] = (float)score;
            most = score > most ? score : most;
        }
        for (long i = 0; i < length; i++)
            total += weights[i] = (float)exp(weights[i] - most);
        for (long j = 0; j < width; j++) {
            double mean = 0;
            for (long i = 0; i < length; i++)
                mean += weights[i] / total * normal[i * width + j];
            query[j] = (float)mean;
        }
    }
}

static void add(const float *one, const float *other, long width, float *out)
{
    for (long j = 0; j < width; j++)
        out[j] = one[j] + other[j];
}

static void quantize(const void *row, Format format, long width, const float *weight, const Quantizer *quantizer,
                     uint8_t *out)
{
    for (long j = 0; j < width; j++) {
        const float x = read_value(row, j, format);
        out[j] = quantize_value(weight == NULL ? x : x * weight[j], quantizer);
    }
}

#define FLOATS(name, FORMAT)                                                                                           \
    static void name##_gemm(const Gemm *gemm, long rows, long columns) { gemm_panel(gemm, rows, columns, FORMAT); }    \
    static void name##_normalize(const float *row, long width, float epsilon, const float *const norm[2], void *out)   \
    {                                                                                                                  \
        normalize(row, width, epsilon, norm, out, FORMAT);                                                             \
    }                                                                                                                  \
    static void name##_convert(const float *row, long width, void *out) { convert(row, width, out, FORMAT); }          \
    static void name##_center(const uint8_t *pixels, long count, float center, void *out)                              \
    {                                                                                                                  \
        center_pixels(pixels, count, center, out, FORMAT);                                                             \
    }                                                                                                                  \
    static void name##_attend(const Attention *attention, char *scratch) { attend(attention, scratch, FORMAT); }
FLOATS(f32, F32)
FLOATS(bf16, BF16)

static void int8_gemm(const Gemm *gemm, long rows, long columns)
{
    gemm_panel(gemm, rows, columns, INT8);
}

const Kernels scalar_f32 = {.gemm = f32_gemm, .normalize = f32_normalize, .convert = f32_convert, .center = f32_center,
                            .attend = f32_attend, .pool = pool, .add = add, .name = "scalar", .part_rows = PART_ROWS};
const Kernels scalar_bf16 = {.gemm = bf16_gemm, .normalize = bf16_normalize, .convert = bf16_convert,
                             .center = bf16_center, .attend = bf16_attend, .name = "scalar",
                             .part_rows = PART_ROWS};
const Kernels scalar_int8 = {.gemm = int8_gemm, .quantize = quantize, .name = "scalar", .part_rows = PART_ROWS};

#endif
