/* Functions of a vector, for any instruction set whose header defines Vector and the v_ functions. */

/* e to the x within 1e-7 of itself: 2 to the nearest whole power, and a polynomial for the rest. */
INLINE Vector v_exp(Vector x)
{
    Vector power = v_round(x * v_set(1.44269504f));
    Vector rest = v_fnma(power, v_set(0.693145752f), x);
    rest = v_fnma(power, v_set(1.42860677e-6f), rest);
    Vector sum = v_set(1.0f / 5040);
    sum = v_fma(sum, rest, v_set(1.0f / 720));
    sum = v_fma(sum, rest, v_set(1.0f / 120));
    sum = v_fma(sum, rest, v_set(1.0f / 24));
    sum = v_fma(sum, rest, v_set(1.0f / 6));
    sum = v_fma(sum, rest, v_set(0.5f));
    sum = v_fma(sum, rest, v_set(1.0f));
    sum = v_fma(sum, rest, v_set(1.0f));
    return v_scale(sum, power);
}

/* 2 to the x within 8e-5 of itself, for values that are rounded to 8 bits. */
INLINE Vector v_exp2_rough(Vector x)
{
    Vector power = v_round(x), rest = x - power;
    Vector sum = v_fma(v_set(0.0551718559f), rest, v_set(0.242611176f));
    sum = v_fma(sum, rest, v_set(0.693260962f));
    return v_scale(v_fma(sum, rest, v_set(0.999928095f)), power);
}

INLINE Vector v_clamp(Vector x, float least, float most)
{
    return v_min(v_max(x, v_set(least)), v_set(most));
}

/* An activation within 1e-6 of itself. QuickGELU is x times the logistic function of 1.702 x; tanh GELU the same of
 * 2 sqrt(2 / pi) (x + 0.044715 x^3); GELU is x times the normal distribution, by erfc(z): e to the -z*z times a
 * polynomial in 1 / (1 + z / 2). */
INLINE Vector v_activate(Vector x, const Activation kind)
{
    if (kind == LINEAR)
        return x;
    if (kind == QUICK_GELU)
        return x / (v_set(1.0f) + v_exp(v_clamp(x * v_set(-1.702f), -88.0f, 88.0f)));
    if (kind == GELU_TANH) {
        Vector steep = v_fma(x * x, v_set(-0.0713548163f), v_set(-1.59576912f));
        return x / (v_set(1.0f) + v_exp(v_clamp(x * steep, -88.0f, 88.0f)));
    }
    Vector z = v_min(v_abs(x) * v_set(0.707106781f), v_set(9.0f));
    Vector t = v_set(1.0f) / v_fma(z, v_set(0.5f), v_set(1.0f));
    Vector sum = v_set(-0.0537854806f);
    static const float terms[] = {0.257178277f, -0.426055998f, 0.20120655f, 0.033160273f,
                                  0.172938466f, 0.252543986f, 0.280537874f, 0.282285064f, -9.08181391e-06f};
    for (int i = 0; i < (int)(sizeof terms / sizeof *terms); i++)
        sum = v_fma(sum, t, v_set(terms[i]));
    Vector tail = v_exp(v_set(0.0f) - z * z) * sum;
    return v_mirror(x, x * v_set(0.5f) * tail); /* x * erfc(|z|) / 2 */
}

/* As v_activate, within 4e-4 of itself. */
INLINE Vector v_activate_rough(Vector x, const Activation kind)
{
    if (kind == LINEAR)
        return x;
    if (kind == QUICK_GELU)
        return x * v_reciprocal(v_set(1.0f) + v_exp2_rough(v_clamp(x * v_set(-2.45546696f), -126.0f, 126.0f)));
    if (kind == GELU_TANH) {
        Vector steep = v_fma(x * x, v_set(-0.102943240f), v_set(-2.30220820f));
        return x * v_reciprocal(v_set(1.0f) + v_exp2_rough(v_clamp(x * steep, -126.0f, 126.0f)));
    }
    Vector t = v_reciprocal(v_fma(v_abs(x), v_set(0.487903679f), v_set(1.0f)));
    Vector sum = v_fma(v_set(-0.123618634f), t, v_set(0.258553093f));
    sum = v_fma(sum, t, v_set(0.168209456f));
    sum = v_fma(sum, t, v_set(0.196822856f)) * t; /* half of it already */
    Vector power = v_max(x * x * v_set(-0.72134752f), v_set(-126.0f));
    return v_mirror(x, x * (v_exp2_rough(power) * sum));
}
