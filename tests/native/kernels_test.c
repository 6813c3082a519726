/* Every kernel of every instruction set that this processor has, against the scalar reference, over all remainders.
 *
 * tests/test_native_kernels.py compiles it with the module's own sources and runs it; so do the sanitizers and emulators.
 * It prints a line for each kernel that differs, and at the end how many comparisons each instruction set had. With a
 * name it looks at that one alone.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define COUNT(array) (long)(sizeof(array) / sizeof *(array))
#define GUARD 64 /* bytes behind each array, which nothing may touch */

static const char *const format_names[] = {"f32", "bf16", "int8"};
static const int value_bytes[] = {4, 2, 1};
static long compared, failed;
static uint64_t state = 1;

static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static float draw_float(void)
{
    float x = 0;
    for (int i = 0; i < 4; i++)
        x += (float)draw() / 2147483648.0f - 0.5f;
    return x;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static double read_at(const void *values, Format format, long at)
{
    if (format == F32)
        return ((const float *)values)[at];
    return format == BF16 ? from_bf16(((const uint16_t *)values)[at]) : ((const uint8_t *)values)[at];
}

/* Memory of so many bytes filled with a pattern that no kernel writes by chance, and a guard. */
static void *make(size_t bytes)
{
    char *memory = aligned_alloc(64, (bytes + GUARD + 63) / 64 * 64);
    memset(memory, 0x5A, (bytes + GUARD + 63) / 64 * 64);
    return memory;
}

static int is_guarded(const void *memory, size_t bytes)
{
    for (size_t i = bytes; i < bytes + GUARD; i++)
        if (((const char *)memory)[i] != 0x5A)
            return 0;
    return 1;
}

/* Random values; words are filled up with zeros where rows end within one. Without a guard, so that the address sanitizer
 * sees a read behind the last. */
static void *draw_values(Format format, long rows, long width, long step)
{
    char *values = calloc((size_t)(rows * step), (size_t)value_bytes[format]);
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < width; j++) {
            long at = i * step + j;
            if (format == F32)
                ((float *)values)[at] = draw_float();
            else if (format == BF16)
                ((uint16_t *)values)[at] = to_bf16(draw_float());
            else
                ((uint8_t *)values)[at] = (uint8_t)draw();
        }
    return values;
}

static void fail(const char *set, Format format, const char *kernel, const char *sizes)
{
    failed++;
    if (failed < 40)
        printf("DIFFERS %s %s %s %s\n", set, format_names[format], kernel, sizes);
}

/* Whether two rows agree: within a part of the largest number that there is, or so many units of a byte. */
static int agree(const void *found, const void *expected, Format format, long rows, long width, long step, double bound)
{
    double most = 1e-3, worst = 0;
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < width; j++) {
            double x = read_at(found, format, i * step + j), y = read_at(expected, format, i * step + j);
            if (isnan(x) != isnan(y))
                return 0;
            if (isnan(x))
                continue;
            most = fabs(y) > most ? fabs(y) : most;
            worst = fabs(x - y) > worst ? fabs(x - y) : worst;
        }
    compared++;
    return format == INT8 ? worst <= bound : worst <= bound * most;
}

/* What is behind each row of an output is as it was. */
static int is_untouched(const void *out, Format format, long rows, long width, long step)
{
    const unsigned char *bytes = out;
    for (long i = 0; i < rows; i++)
        for (long j = width * value_bytes[format]; j < step * value_bytes[format]; j++)
            if (bytes[i * step * value_bytes[format] + j] != 0x5A)
                return 0;
    return 1;
}

/* A panel through an epilogue: values of `format` times values, to values of `out`. */
static void test_gemm(const char *set, const Kernels *kernels, const Kernels *reference, Format format, long rows,
                      long columns, long inputs, Format out, Activation activation, int added, int parts)
{
    const long words = (inputs + per_word[format] - 1) / per_word[format], a_step = words + 3, filled = round_up(columns, FILL);
    const long out_step = columns + 5, sums_rows = rows > 64 ? rows : 64;
    const long row = parts > 1 ? 2 : 0, column = parts > 1 ? 16 : 0; /* as of a later block and panel */
    uint32_t *a = draw_values(format, rows, inputs, a_step * per_word[format]);
    uint32_t *b = calloc((size_t)(words * filled), 4);
    for (long k = 0; k < words; k++)
        for (long j = 0; j < columns; j++)
            for (int i = 0; i < per_word[format] && k * per_word[format] + i < inputs; i++) {
                const long at = (k * filled + j) * per_word[format] + i;
                if (format == F32)
                    ((float *)b)[at] = draw_float();
                else if (format == BF16)
                    ((uint16_t *)b)[at] = to_bf16(draw_float());
                else
                    ((int8_t *)b)[at] = (int8_t)((int)(draw() % 255) - 127);
            }
    float *bias = draw_values(F32, 1, column + columns, column + columns);
    float *scales = draw_values(F32, 1, column + columns, column + columns);
    float *more = draw_values(F32, row + rows, column + columns, out_step + column);
    for (long j = 0; j < column + columns; j++)
        scales[j] = (fabsf(scales[j]) + 0.1f) * 1e-4f;
    atomic_int broken = 0;
    const Quantizer quantizer = {.inverse = 40, .zero_point = 7, .broken = &broken};
    void *outs[2];
    for (int i = 0; i < 2; i++) {
        outs[i] = make((size_t)(rows * out_step * value_bytes[out]));
        float *sums = make((size_t)(sums_rows * NR * 4));
        const Epilogue epilogue = {.bias = bias, .scales = format == INT8 ? scales : NULL, .activation = activation,
                                   .added = added ? more : NULL, .added_step = out_step + column,
                                   .out = (char *)outs[i] - (row * out_step + column) * value_bytes[out],
                                   .format = out, .out_step = out_step, .quantizer = &quantizer};
        for (int part = 0; part < parts; part++) {
            const long from = words * part / parts, until = words * (part + 1) / parts;
            const Gemm gemm = {.a = a + from, .b = b + from * filled, .a_step = a_step, .b_step = filled,
                               .words = until - from, .sums = sums, .sums_step = NR, .add = part > 0,
                               .ahead = part ? NULL : (const char *)b, .epilogue = part + 1 < parts ? NULL : &epilogue,
                               .row = row, .column = column};
            (i ? reference : kernels)->gemm(&gemm, rows, columns);
        }
        if (!is_guarded(sums, (size_t)(sums_rows * NR * 4)))
            fail(set, format, "gemm writes behind its sums", "");
        free(sums);
    }
    char sizes[100];
    snprintf(sizes, sizeof sizes, "rows %ld columns %ld inputs %ld out %s activation %d added %d parts %d", rows, columns,
             inputs, format_names[out], activation, added, parts);
    const double rough = activation == LINEAR ? 1e-6 : 5e-4;
    const double bound = out == INT8 ? 1 : out == BF16 ? 8e-3 : format == BF16 ? 2e-6 * sqrt((double)inputs) : 2e-6;
    if (!agree(outs[0], outs[1], out, rows, columns, out_step, bound + (out == F32 && format != F32 ? rough : 0)))
        fail(set, format, "gemm", sizes);
    const long whole = out == BF16 ? columns + columns % 2 : columns;
    if (!is_guarded(outs[0], (size_t)(rows * out_step * value_bytes[out])) || !is_untouched(outs[0], out, rows, whole, out_step))
        fail(set, format, "gemm writes behind a row", sizes);
    if (out == BF16 && columns % 2)
        for (long i = 0; i < rows; i++)
            if (((uint16_t *)outs[0])[i * out_step + columns])
                fail(set, format, "gemm leaves half a word", sizes);
    free(a), free(b), free(bias), free(scales), free(more), free(outs[0]), free(outs[1]);
}

/* Sums that stay: equal to the last bit of int8, within rounding of floats. */
static void test_kept(const char *set, const Kernels *kernels, const Kernels *reference, Format format, long rows, long columns,
                      long inputs)
{
    const long words = (inputs + per_word[format] - 1) / per_word[format], filled = round_up(columns, FILL), step = filled + 16;
    uint32_t *a = draw_values(format, rows, inputs, words * per_word[format]);
    uint32_t *b = draw_values(format == INT8 ? INT8 : format, words, filled * per_word[format], filled * per_word[format]);
    float *sums[2];
    for (int i = 0; i < 2; i++) {
        sums[i] = make((size_t)(rows * step * 4));
        const Gemm gemm = {.a = a, .b = b, .a_step = words, .b_step = filled, .words = words, .sums = sums[i],
                           .sums_step = step};
        (i ? reference : kernels)->gemm(&gemm, rows, columns);
    }
    char sizes[100];
    snprintf(sizes, sizeof sizes, "rows %ld columns %ld inputs %ld", rows, columns, inputs);
    int equal = 1;
    for (long i = 0; i < rows && format == INT8; i++)
        equal = equal && !memcmp(sums[0] + i * step, sums[1] + i * step, (size_t)columns * 4);
    if (format != INT8)
        equal = agree(sums[0], sums[1], F32, rows, columns, step, 2e-6 * sqrt((double)inputs));
    compared++;
    if (!equal || !is_guarded(sums[0], (size_t)(rows * step * 4)))
        fail(set, format, "sums", sizes);
    free(a), free(b), free(sums[0]), free(sums[1]);
}

static void test_rows(const char *set, const Kernels *kernels, const Kernels *reference, Format format, long width)
{
    float *row = draw_values(F32, 1, width, width), *weight = draw_values(F32, 1, width, width);
    float *bias = draw_values(F32, 1, width, width);
    uint8_t *pixels = draw_values(INT8, 1, width, width);
    const float *const norm[2] = {weight, bias};
    const long whole = format == BF16 ? width + width % 2 : width;
    char sizes[40];
    snprintf(sizes, sizeof sizes, "width %ld", width);
    for (int kind = 0; kind < 4; kind++) {
        static const char *const names[] = {"normalize", "normalize with weights", "convert", "center"};
        void *outs[2];
        for (int i = 0; i < 2; i++) {
            const Kernels *of = i ? reference : kernels;
            outs[i] = make((size_t)(whole + 4) * 4);
            if (kind < 2)
                of->normalize(row, width, 1e-5f, kind ? norm : NULL, outs[i]);
            else if (kind == 2)
                of->convert(row, width, outs[i]);
            else
                of->center(pixels, width, 121.5f, outs[i]);
        }
        if (!agree(outs[0], outs[1], format, 1, width, whole, format == BF16 ? 8e-3 : 1e-6))
            fail(set, format, names[kind], sizes);
        if (!is_untouched(outs[0], format, 1, kind == 3 ? width : whole, whole + 4))
            fail(set, format, "a row writes behind its end", names[kind]);
        free(outs[0]), free(outs[1]);
    }
    if (kernels->add != NULL) {
        float *outs[2] = {make((size_t)round_up(width, FILL) * 4), make((size_t)round_up(width, FILL) * 4)};
        kernels->add(row, weight, width, outs[0]);
        reference->add(row, weight, width, outs[1]);
        if (memcmp(outs[0], outs[1], (size_t)width * 4) || !is_guarded(outs[0], (size_t)round_up(width, FILL) * 4))
            fail(set, format, "add", sizes);
        free(outs[0]), free(outs[1]);
    }
    free(row), free(weight), free(bias), free(pixels);
}

static void test_quantize(const char *set, const Kernels *kernels, const Kernels *reference, long width, Format format)
{
    void *row = draw_values(format, 1, width, width);
    float *weight = draw_values(F32, 1, width, width);
    atomic_int broken[2] = {0, 0};
    uint8_t *outs[2];
    for (int fault = 0; fault < 3; fault++) {
        for (int i = 0; i < 2; i++) {
            const Quantizer quantizer = {.inverse = 90, .zero_point = 120, .broken = &broken[i]};
            outs[i] = make((size_t)width);
            (i ? reference : kernels)->quantize(row, format, width, fault ? weight : NULL, &quantizer, outs[i]);
        }
        if (!agree(outs[0], outs[1], INT8, 1, width, width, fault == 2 ? 255 : 0) || !is_guarded(outs[0], (size_t)width) ||
            broken[0] != broken[1] || broken[0] != (fault == 2))
            fail(set, INT8, "quantize", format_names[format]);
        if (fault == 1 && format == F32)
            ((float *)row)[width - 1] = NAN;
        else if (fault == 1)
            ((uint16_t *)row)[width - 1] = 0x7F80; /* Inf */
        free(outs[0]), free(outs[1]);
    }
    free(row), free(weight);
}

static void test_attend(const char *set, const Kernels *kernels, const Kernels *reference, Format format, long length, long side,
                        int causal)
{
    const long heads = 2, width = heads * side, step = 3 * width + 7, out_step = width + 3;
    void *qkv = draw_values(format, length, 3 * width, step);
    int32_t *index = make((size_t)length * 4), *owned = make((size_t)length * 4), *ends = make((size_t)length * 4);
    for (long i = 0; i < length; i++) {
        index[i] = (int32_t)(length - 1 - i);
        owned[i] = i % 3 == 1 ? -1 : (int32_t)i;
        ends[i] = i % 5 == 4 ? (int32_t)(i + 1 + (long)draw() % 4) : (int32_t)length;
    }
    char *scratch = make(attention_scratch(side, length));
    void *outs[2];
    for (int i = 0; i < 2; i++) {
        outs[i] = make((size_t)(length * out_step * value_bytes[format]));
        for (long head = 0; head < heads; head++) {
            const Attention attention = {.qkv = qkv, .step = step, .width = width, .heads = heads, .head = head,
                                         .length = length, .index = causal ? index : NULL, .owned = causal ? owned : NULL,
                                         .ends = causal ? ends : NULL, .asked = length, .out = outs[i],
                                         .out_step = out_step};
            (i ? reference : kernels)->attend(&attention, scratch);
        }
    }
    char sizes[80];
    snprintf(sizes, sizeof sizes, "length %ld head width %ld %s", length, side, causal ? "causal" : "full");
    const long whole = format == BF16 ? width + width % 2 : width;
    for (long i = 0; i < length; i++) {
        const size_t at = (size_t)(i * out_step * value_bytes[format]);
        if (causal && owned[i] < 0)
            continue;
        if (!agree((char *)outs[0] + at, (char *)outs[1] + at, format, 1, width, out_step, format == BF16 ? 2e-2 : 3e-6))
            fail(set, format, "attend", sizes);
        if (!is_untouched((char *)outs[0] + at, format, 1, whole, out_step))
            fail(set, format, "attend writes behind a row", sizes);
    }
    if (!is_guarded(scratch, attention_scratch(side, length)))
        fail(set, format, "attend writes behind its scratch", sizes);
    free(qkv), free(index), free(owned), free(ends), free(scratch), free(outs[0]), free(outs[1]);
}

static void test_pool(const char *set, const Kernels *kernels, const Kernels *reference, long length, long width, long heads)
{
    const long step = width + 9, full = round_up(width, FILL);
    float *rows = draw_values(F32, length, width, step), *queries[2];
    char *scratch = make(pooling_scratch(width, heads, length));
    for (int i = 0; i < 2; i++) {
        queries[i] = make((size_t)(heads * full) * 4);
        memset(queries[i], 0, (size_t)(heads * full) * 4);
        for (long j = 0; j < heads * full; j++)
            if (j % full < width)
                queries[i][j] = i ? queries[0][j] : draw_float();
        if (i == 0)
            continue;
        for (int k = 0; k < 2; k++) {
            const Pooling pooling = {.rows = rows, .step = step, .width = width, .heads = heads, .length = length,
                                     .epsilon = 1e-5f, .queries = queries[k]};
            (k ? reference : kernels)->pool(&pooling, scratch);
        }
    }
    char sizes[80];
    snprintf(sizes, sizeof sizes, "length %ld width %ld heads %ld", length, width, heads);
    if (!agree(queries[0], queries[1], F32, heads, width, full, 5e-6) ||
        !is_guarded(scratch, pooling_scratch(width, heads, length)) || !is_guarded(queries[0], (size_t)(heads * full) * 4))
        fail(set, F32, "pool", sizes);
    free(rows), free(scratch), free(queries[0]), free(queries[1]);
}

/* The activations that a format's epilogues have, and where their values go. */
static void test_epilogues(const char *set, const Kernels *kernels, const Kernels *reference, Format format, int bf16)
{
    for (int activation = LINEAR; activation <= GELU_TANH; activation++)
        for (long columns = 45; columns <= NR; columns++) {
            test_gemm(set, kernels, reference, format, 9, columns, 33, format, (Activation)activation, 0, 1);
            if (activation == LINEAR && format != F32) {
                test_gemm(set, kernels, reference, format, 9, columns, 33, F32, LINEAR, 1, 1);
                if (format == INT8 && bf16)
                    test_gemm(set, kernels, reference, format, 9, columns, 33, BF16, LINEAR, 0, 1);
            }
        }
}

/* bf16: whether the instruction set has that format, too, which int8 keeps then between two maps. */
static void test_format(const char *set, const Kernels *kernels, const Kernels *reference, Format format, int bf16)
{
    for (long rows = 1; rows <= 50; rows++)
        test_gemm(set, kernels, reference, format, rows, rows % NR + 1, 40 + rows, format == INT8 ? INT8 : format,
                  format == INT8 ? QUICK_GELU : LINEAR, format == F32, 1);
    for (long columns = 1; columns <= NR; columns++) {
        test_gemm(set, kernels, reference, format, 5, columns, 70, F32, LINEAR, 1, 2);
        test_kept(set, kernels, reference, format, 3, columns, 61);
    }
    for (long inputs = 1; inputs <= 140; inputs++) {
        test_gemm(set, kernels, reference, format, 13, 20, inputs, F32, LINEAR, 0, 1);
        test_kept(set, kernels, reference, format, 17, 48, inputs);
    }
    for (long rows = 30; rows <= 70; rows++)
        test_kept(set, kernels, reference, format, rows, 48, 128);
    for (long words = 127; words <= 771; words += words < 131 || (words > 382 && words < 387) ? 1 : 251)
        for (long rows = 1; rows <= 33; rows += 16) { /* more than a block of the depth */
            test_kept(set, kernels, reference, format, rows, 48, words * per_word[format]);
            test_gemm(set, kernels, reference, format, rows, 33, words * per_word[format], F32, LINEAR, 1, 1);
        }
    test_epilogues(set, kernels, reference, format, bf16);
    for (long width = 1; width <= 70; width++) {
        if (format == INT8) {
            test_quantize(set, kernels, reference, width, F32);
            if (bf16)
                test_quantize(set, kernels, reference, width, BF16);
        } else {
            test_rows(set, kernels, reference, format, width);
        }
    }
    for (long length = 1; length <= 90 && format != INT8; length += 1 + length / 20) {
        test_attend(set, kernels, reference, format, length, 16, 0);
        test_attend(set, kernels, reference, format, length, 16, 1);
        test_attend(set, kernels, reference, format, length, 1 + length % 40, length % 2);
    }
    for (long length = 1; length <= 70 && format == F32; length += 3) {
        test_pool(set, kernels, reference, length, 48, 3);
        test_pool(set, kernels, reference, length, 1 + length, 1 + length % 20);
    }
}

int main(int count, char **names)
{
    static const Kernels *const references[FORMATS] = {&scalar_f32, &scalar_bf16, &scalar_int8};
    int found = 0;
    for (const InstructionSet *set = instruction_sets; set->name != NULL; set++) {
        if ((count > 1 && strcmp(set->name, names[1])) || !set->find() || (set->enable != NULL && !set->enable()))
            continue;
        found = 1;
        for (int format = 0; format < FORMATS; format++) {
            if (set->kernels[format] == NULL)
                continue;
            compared = 0;
            test_format(set->name, set->kernels[format], references[format], (Format)format, set->kernels[BF16] != NULL);
            printf("%s %s: %ld comparisons\n", set->name, format_names[format], compared);
        }
    }
    printf("%ld differ\n", failed);
    return failed || !found;
}
