/* The epilogue of a GEMM; see gemm_template.h, which this needs FORMAT and FLOAT_SUMS of. UNROLL_ROWS may be defined where
 * rows are quicker side by side. */

#ifndef UNROLL_ROWS
#define UNROLL_ROWS
#endif

INLINE void finish_as(const Gemm *gemm, long rows, long columns, const Format format, const Activation activation)
{
    const Epilogue epilogue = *gemm->epilogue; /* a copy: what is stored cannot change it */
    int broken = 0;
    for (long j = 0; j < columns; j += LANES) {
        const long column = gemm->column + j, left = columns - j;
        const Vector bias = epilogue.bias == NULL ? v_set(0.0f) : v_load_n(epilogue.bias + column, left);
        const Vector scale = FORMAT == INT8 ? v_load_n(epilogue.scales + column, left) : v_set(0.0f);
        UNROLL_ROWS for (long i = 0; i < rows; i++) {
            const long row = gemm->row + i, place = row * epilogue.out_step + column;
            Vector x = FLOAT_SUMS(gemm->sums + i * gemm->sums_step + j);
            if (FORMAT == INT8)
                x = v_fma(x, scale, bias);
            else
                x = x + bias;
            x = format == F32 ? v_activate(x, activation) : v_activate_rough(x, activation);
            if (format == F32) {
                if (epilogue.added != NULL)
                    x = x + v_load_n(epilogue.added + row * epilogue.added_step + column, left);
                v_store_n((float *)epilogue.out + place, x, left);
            } else if (format == BF16) { /* zeros up to a whole word: NaN times zero is NaN */
                v_store_bf16((uint16_t *)epilogue.out + place, v_first(x, left), left + left % 2);
            } else {
                broken |= v_quantize((uint8_t *)epilogue.out + place, x, left, epilogue.quantizer);
            }
        }
    }
    if (broken)
        atomic_store_explicit(epilogue.quantizer->broken, 1, memory_order_relaxed);
}

/* Rows of sums to where they go. Each combination that towers have is compiled by itself. */
static void finish(const Gemm *gemm, long rows, long columns)
{
    const Activation activation = gemm->epilogue->activation;
    switch (gemm->epilogue->format) {
#define CASE(format, activation)                                                                                       \
    case activation:                                                                                                   \
        finish_as(gemm, rows, columns, format, activation);                                                      \
        return;
#define CASES(format)                                                                                                  \
    case format:                                                                                                       \
        switch (activation) {                                                                                          \
            CASE(format, LINEAR) CASE(format, QUICK_GELU) CASE(format, GELU) CASE(format, GELU_TANH)                   \
        }                                                                                                              \
        return;
        CASES(F32) CASES(BF16) CASES(INT8)
    case FORMATS:
        return;
    }
#undef CASE
#undef CASES
}
