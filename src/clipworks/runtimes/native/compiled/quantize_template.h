/* Rows to bytes; a file of an instruction set's int8 includes this. */
static void quantize(const void *row, Format format, long width, const float *weight, const Quantizer *quantizer,
                           uint8_t *out)
{
    int broken = 0;
    for (long j = 0; j < width; j += LANES) {
        const long left = width - j;
        Vector x = format == BF16 ? v_load_bf16((const uint16_t *)row + j, left) : v_load_n((const float *)row + j, left);
        if (weight != NULL)
            x = x * v_load_n(weight + j, left);
        broken |= v_quantize(out + j, x, left, quantizer);
    }
    if (broken)
        atomic_store_explicit(quantizer->broken, 1, memory_order_relaxed);
}
