/* Packed weights: where each part of a tower lies in the one buffer that clipworks.runtimes.native.layout writes. */
#include "kernels.h"

#if COMPILED

#include <float.h>

#include "tower.h"

/* The parts in their order; each begins at a multiple of ALIGNMENT. */
typedef struct {
    const char *at, *end;
    int short_of;
} Reader;

static const void *read_part(Reader *reader, size_t bytes)
{
    const char *part = reader->at;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if ((size_t)(reader->end - part) < bytes) {
        reader->short_of = 1;
        return part;
    }
    reader->at += bytes;
    return part;
}

static const float *read_floats(Reader *reader, long count)
{
    return read_part(reader, (size_t)count * sizeof(float));
}

static Linear read_linear(Reader *reader, long inputs, long outputs, Format format, int bias)
{
    long words = (inputs + per_word[format] - 1) / per_word[format];
    Linear linear = {.inputs = inputs, .outputs = outputs, .format = format};
    linear.panels = read_floats(reader, words * round_up(outputs, FILL));
    if (format == INT8)
        linear.scales = read_floats(reader, outputs);
    if (bias || format == INT8) /* of int8 it holds what the zero point of the values adds, too */
        linear.bias = read_floats(reader, outputs);
    return linear;
}

/* Of int8; what is wrong with it, or NULL. */
static const char *read_quantization(Tower *tower, Reader *reader, Layer *layer)
{
    layer->weights[0] = read_floats(reader, tower->facts.width);
    layer->weights[1] = read_floats(reader, tower->facts.width);
    const float *pairs = read_floats(reader, 8);
    for (int j = 0; j < 4 && !reader->short_of; j++) {
        const float inverse = pairs[2 * j], zero_point = pairs[2 * j + 1];
        if (!(inverse > 0 && inverse <= FLT_MAX && zero_point >= 0 && zero_point <= 255))
            return "the packed weights round by a scale or a zero point that is none";
        layer->quantizers[j] = (Quantizer){inverse, (int)zero_point, &tower->broken};
    }
    return NULL;
}

static void read_input(Tower *tower, Reader *reader)
{
    const Facts *facts = &tower->facts;
    const long width = facts->width;
    if (!facts->image_size) {
        tower->tokens = read_floats(reader, facts->vocabulary * width);
        tower->positions = read_floats(reader, facts->context * width);
        return;
    }
    tower->patches = read_linear(reader, facts->patch_size * facts->patch_size * 3, width, tower->inner, 0);
    tower->positions = read_floats(reader, facts->grid * facts->grid * width);
    if (facts->cls_token)
        tower->cls_token = read_floats(reader, width);
    for (int i = 0; i < 2 && facts->input_norm; i++)
        tower->norm_pre[i] = read_floats(reader, width);
}

/* What follows the layers. */
static void read_output(Tower *tower, Reader *reader)
{
    const Facts *facts = &tower->facts;
    const long width = facts->width, heads = facts->heads, side = width / heads;
    if (!facts->attention_pool) { /* each head's keys are a matrix of their own */
        tower->keys = read_linear(reader, side, width, F32, 0);
        read_floats(reader, (heads - 1) * side * round_up(width, FILL));
    }
    tower->values = (Linear){.panels = read_floats(reader, heads * width * round_up(side, FILL)),
                             .inputs = width, .outputs = side, .format = F32};
    for (int i = 0; i < 2 && !facts->attention_pool; i++)
        tower->norm_post[i] = read_floats(reader, width);
    if (facts->projected)
        tower->projection = read_linear(reader, width, facts->dim, F32, 1);
}

const char *read_weights(Tower *tower, const void *body, size_t size)
{
    const Facts *facts = &tower->facts;
    const long width = facts->width;
    Reader reader = {.at = body, .end = (const char *)body + size};
    read_input(tower, &reader);
    for (long i = 0; i < facts->layers; i++) {
        Layer *layer = &tower->layers[i];
        const int last = i + 1 == facts->layers;
        const Format format = last ? tower->format : tower->inner;
        if (last && facts->attention_pool)
            tower->folded = read_floats(&reader, facts->heads * round_up(width, FILL));
        else
            layer->qkv = read_linear(&reader, width, last ? width : 3 * width, format, 1);
        layer->proj = read_linear(&reader, width, width, format, 1);
        layer->fc1 = read_linear(&reader, width, facts->mlp_dim, format, 1);
        layer->fc2 = read_linear(&reader, facts->mlp_dim, width, format, 1);
        const char *wrong = format == INT8 ? read_quantization(tower, &reader, layer) : NULL;
        if (wrong != NULL)
            return wrong;
    }
    read_output(tower, &reader);
    return !reader.short_of && reader.at == reader.end ? NULL
                                                       : "the packed weights are not as long as the tower's facts say";
}

#endif
