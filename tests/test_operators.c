/* test_operators.c - operators against naive double loops written here: forward directly, gradients
   by central differences of the same loops; the loss is sum(r * y) with random r.
       build/test_operators [OPERATOR [CASE]]     repeats some alone
       build/test_operators --cases               prints those of which golden/make_cases.py makes
                                                  goldens by PyTorch
   This file is compiled with test_opencl.c.
   Every buffer is between sentinels. Gradients are not zero before, and each is NULL in turn. The
   bits must be the same with 1, 2 and 5 threads, and for a sample alone as in a batch.
   PyTorch's goldens (test_golden.c) test the same operators independently. */
#include "check.h"

#include "internals.h"
#include "layout.h"

static double tolerance = 1e-5;
static bool briefly; /* each case once, where running is slow */
static bool on_device; /* see test_opencl.c */
static bool lists; /* for golden/make_cases.py: no case is run */
static bool few_bits; /* numbers of 6 bits, which bf16 holds too, so that products are exact */
enum { MOST_INPUTS = 12, GUARD = 8 };
static const float sentinel = 12345.678f;

/* Which outputs a number reaches, by the operator's definition: of its sample; of its output channel, or
   its heads in attention; of the kernels over its row, or its step in attention; -1: of all. */
typedef struct reach { int sample, channel, row; } reach;

/* What the oracle sees: shapes, options, inputs in double. It fills y, which begins as zeros. */
typedef struct problem {
    const char *op;
    ft_shape shape[MOST_INPUTS];
    int inputs;
    ft__options options;
    bool training;
    int integer;            /* the number, from 1, of the input that holds labels or lengths */
    double *x[MOST_INPUTS];
    ft_shape out;
    const reach *only;      /* other outputs may be left out; NULL: none */
} problem;

typedef void (*oracle)(const problem *p, double *y);

static bool is_norm(const problem *p) { return !strcmp(p->op, "batch_norm"); }

static double random_value(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / 8388608.0 - 1;
}

static size_t count_of(const ft_shape *s) { return ft__shape_count(s); }

static ft_shape shape4(int a, int b, int c, int d)
{
    ft_shape s = {4, {a, b, c, d}};
    return s;
}

static ft_shape shape3(int a, int b, int c)
{
    ft_shape s = {3, {a, b, c}};
    return s;
}

static ft_shape shape2(int a, int b)
{
    ft_shape s = {2, {a, b}};
    return s;
}

static ft_shape shape1(int a)
{
    ft_shape s = {1, {a}};
    return s;
}

static int or_default(int value, int otherwise) { return value ? value : otherwise; }

/* ---- Oracles ---- */

static bool is_reached(const reach *only, int sample, int channel, int first_row, int last_row)
{
    if (!only) return true;
    return (only->sample < 0 || only->sample == sample)
        && (only->channel < 0 || only->channel == channel)
        && (only->row < 0 || (only->row >= first_row && only->row <= last_row));
}

static void oracle_conv2d(const problem *p, double *y)
{
    const ft_conv2d_options *o = &p->options.conv2d;
    const int *x = p->shape[0].size, *w = p->shape[1].size;
    int groups = or_default(o->groups, 1), n, oc, i, j, c, kh, kw;
    int sh = or_default(o->stride[0], 1), sw = or_default(o->stride[1], sh);
    int dh = or_default(o->dilation[0], 1), dw = or_default(o->dilation[1], dh);
    bool all = !o->padding[1] && !o->padding[2] && !o->padding[3];
    int top = o->padding[0], left = all ? o->padding[0] : o->padding[1];
    if (o->same) { /* the smaller half of what is missing goes before */
        int need_h = (p->out.size[2] - 1) * sh + (w[2] - 1) * dh + 1 - x[2];
        int need_w = (p->out.size[3] - 1) * sw + (w[3] - 1) * dw + 1 - x[3];
        top = need_h > 0 ? need_h / 2 : 0;
        left = need_w > 0 ? need_w / 2 : 0;
    }
    for (n = 0; n < x[0]; ++n)
        for (oc = 0; oc < w[0]; ++oc)
            for (i = 0; i < p->out.size[2]; ++i, y += p->out.size[3])
                for (j = 0; j < p->out.size[3]; ++j) {
                    double sum = p->inputs > 2 ? p->x[2][oc] : 0;
                    if (!is_reached(p->only, n, oc, i * sh - top, i * sh - top + (w[2] - 1) * dh))
                        break;
                    for (c = 0; c < w[1]; ++c)
                        for (kh = 0; kh < w[2]; ++kh) {
                            int channel = oc / (w[0] / groups) * w[1] + c;
                            int r = i * sh + kh * dh - top, s = j * sw - left;
                            int row = ((n * x[1] + channel) * x[2] + r) * x[3];
                            int taps = ((oc * w[1] + c) * w[2] + kh) * w[3];
                            if (r < 0 || r >= x[2]) continue;
                            for (kw = 0; kw < w[3]; ++kw, s += dw)
                                if (s >= 0 && s < x[3])
                                    sum += p->x[0][row + s] * p->x[1][taps + kw];
                        }
                    y[j] = sum;
                }
}

static void oracle_conv1d(const problem *p, double *y)
{
    const ft_conv2d_options *o = &p->options.conv2d;
    const int *x = p->shape[0].size, *w = p->shape[1].size;
    int groups = or_default(o->groups, 1), stride = or_default(o->stride[1], 1), n, oc, i, c, k;
    int dilation = or_default(o->dilation[1], 1), before = o->padding[1];
    if (o->same) {
        int missing = (p->out.size[2] - 1) * stride + (w[2] - 1) * dilation + 1 - x[2];
        before = missing > 0 ? missing / 2 : 0;
    }
    for (n = 0; n < x[0]; ++n)
        for (oc = 0; oc < w[0]; ++oc)
            for (i = 0; i < p->out.size[2]; ++i) {
                double sum = p->inputs > 2 ? p->x[2][oc] : 0;
                for (c = 0; c < w[1]; ++c)
                    for (k = 0; k < w[2]; ++k) {
                        int channel = oc / (w[0] / groups) * w[1] + c;
                        int at = i * stride + k * dilation - before;
                        if (at >= 0 && at < x[2])
                            sum += p->x[0][(n * x[1] + channel) * x[2] + at]
                                * p->x[1][(oc * w[1] + c) * w[2] + k];
                    }
                *y++ = sum;
            }
}

static void oracle_layer_norm(const problem *p, double *y)
{
    int d = p->shape[0].size[p->shape[0].rank - 1], i;
    size_t rows = count_of(&p->shape[0]) / (size_t)d, r;
    for (r = 0; r < rows; ++r) {
        const double *x = p->x[0] + r * (size_t)d;
        double mean = 0, var = 0;
        for (i = 0; i < d; ++i) mean += x[i] / d;
        for (i = 0; i < d; ++i) var += (x[i] - mean) * (x[i] - mean) / d;
        for (i = 0; i < d; ++i)
            *y++ = (x[i] - mean) / sqrt(var + (double)p->options.layer_norm.eps) * p->x[1][i]
                + p->x[2][i];
    }
}

/* rows as long as the weight */
static void oracle_rms_norm(const problem *p, double *y)
{
    int d = p->shape[1].size[0], i;
    size_t rows = count_of(&p->shape[0]) / (size_t)d, r;
    for (r = 0; r < rows; ++r) {
        const double *x = p->x[0] + r * (size_t)d;
        double square = 0;
        for (i = 0; i < d; ++i) square += x[i] * x[i] / d;
        for (i = 0; i < d; ++i)
            *y++ = x[i] / sqrt(square + (double)p->options.rms_norm.eps) * p->x[1][i];
    }
}

static void oracle_group_norm(const problem *p, double *y)
{
    const ft_group_norm_options *o = &p->options.group_norm;
    const ft_shape *s = &p->shape[0];
    int channels = s->size[1], groups = or_default(o->groups, 32), each = channels / groups, n, g;
    int c, i, places = (int)count_of(s) / (s->size[0] * channels);
    double eps = o->eps > 0 ? (double)o->eps : 1e-5;
    for (n = 0; n < s->size[0]; ++n)
        for (g = 0; g < groups; ++g) {
            size_t first = ((size_t)n * (size_t)channels + (size_t)(g * each)) * (size_t)places;
            int all = each * places;
            double mean = 0, var = 0;
            for (i = 0; i < all; ++i) mean += p->x[0][first + (size_t)i] / all;
            for (i = 0; i < all; ++i) var += pow(p->x[0][first + (size_t)i] - mean, 2) / all;
            for (i = 0; i < all; ++i) {
                double h = (p->x[0][first + (size_t)i] - mean) / sqrt(var + eps);
                c = g * each + i / places;
                y[first + (size_t)i] = p->inputs > 1 ? h * p->x[1][c] + p->x[2][c] : h;
            }
        }
}

/* Three dimensions behind the batch, missing ones 1. */
static void oracle_permute(const problem *p, double *y)
{
    const int *axes = p->options.permute.axes;
    int at[4], from[4], x[4], o[4], d;
    for (d = 0; d < 4; ++d) {
        x[d] = d < p->shape[0].rank ? p->shape[0].size[d] : 1;
        o[d] = d < p->out.rank ? p->out.size[d] : 1;
    }
    for (at[0] = 0; at[0] < o[0]; ++at[0])
        for (at[1] = 0; at[1] < o[1]; ++at[1])
            for (at[2] = 0; at[2] < o[2]; ++at[2])
                for (at[3] = 0; at[3] < o[3]; ++at[3]) {
                    from[3] = 0;
                    for (d = 0; d < p->out.rank; ++d) from[axes[d]] = at[d];
                    *y++ = p->x[0][((from[0] * x[1] + from[1]) * x[2] + from[2]) * x[3] + from[3]];
                }
}

/* Each number of x goes, times the kernel, to the places of y that it reaches. */
static void oracle_conv_transpose2d(const problem *p, double *y)
{
    const ft_conv_transpose2d_options *o = &p->options.conv_transpose2d;
    const int *x = p->shape[0].size, *w = p->shape[1].size, *out = p->out.size;
    int groups = or_default(o->groups, 1), n, c, i, k, h;
    int sh = or_default(o->stride[0], 1), sw = or_default(o->stride[1], sh);
    int dh = or_default(o->dilation[0], 1), dw = or_default(o->dilation[1], dh);
    bool all = !o->padding[1] && !o->padding[2] && !o->padding[3];
    int top = o->padding[0], left = all ? o->padding[0] : o->padding[1];
    if (o->same) { /* the smaller half of what is too much is cut off before */
        top = (w[2] - 1) * dh + 1 > sh ? ((w[2] - 1) * dh + 1 - sh) / 2 : 0;
        left = (w[3] - 1) * dw + 1 > sw ? ((w[3] - 1) * dw + 1 - sw) / 2 : 0;
    }
    for (i = 0; i < (int)count_of(&p->out); ++i)
        y[i] = p->inputs > 2 ? p->x[2][i / (out[2] * out[3]) % out[1]] : 0;
    for (n = 0; n < x[0]; ++n)
        for (c = 0; c < x[1]; ++c)
            for (i = 0; i < x[2] * x[3]; ++i)
                for (h = 0; h < w[2] * w[3]; ++h) {
                    int r = i / x[3] * sh + h / w[3] * dh - top, s = i % x[3] * sw + h % w[3] * dw - left;
                    double value = p->x[0][(n * x[1] + c) * x[2] * x[3] + i];
                    const double *tap = p->x[1] + c * w[1] * w[2] * w[3] + h;
                    double *to;
                    if (r < 0 || s < 0 || r >= out[2] || s >= out[3]) continue;
                    to = y + ((n * out[1] + c / (x[1] / groups) * w[1]) * out[2] + r) * out[3] + s;
                    for (k = 0; k < w[1]; ++k) to[k * out[2] * out[3]] += value * tap[k * w[2] * w[3]];
                }
}

/* The share of x's number k in y's number i along an axis, by the definitions of ONNX's Resize. */
static double resize_share(const ft_resize_options *o, int axis, int in, int out, int i, int k)
{
    bool linear = o->mode == FT_RESIZE_LINEAR;
    double given = (double)o->scale[axis && o->scale[1] != 0 ? 1 : 0];
    double scale = given > 0 ? given : (double)out / in, at = (i + 0.5) / scale - 0.5;
    if (o->coordinates == FT_RESIZE_ASYMMETRIC || (!o->coordinates && !linear)) at = i / scale;
    if (o->coordinates == FT_RESIZE_ALIGN_CORNERS) at = out == 1 ? 0 : i * (in - 1.0) / (out - 1.0);
    if (o->coordinates == FT_RESIZE_PYTORCH_HALF_PIXEL && out == 1) at = 0;
    if (!linear) {
        if (o->rounding == FT_RESIZE_FLOOR) at = floor(at + 1e-6);
        else if (o->rounding == FT_RESIZE_CEIL) at = ceil(at - 1e-6);
        else at = floor(at + 0.5 + (o->rounding == FT_RESIZE_PREFER_FLOOR ? -1e-6 : 1e-6));
    }
    at = fmin(fmax(at, 0), in - 1);
    return fmax(0, 1 - fabs(at - k));
}

static void oracle_resize(const problem *p, double *y)
{
    static double rows[64][64], columns[64][64];
    bool flat = p->shape[0].rank == 3;
    const int *x = p->shape[0].size, *o = p->out.size;
    int height = flat ? 1 : x[2], width = flat ? x[2] : x[3], tall = flat ? 1 : o[2], wide = flat ? o[2] : o[3];
    int n, i, j, k, l;
    for (i = 0; i < tall; ++i)
        for (k = 0; k < height; ++k)
            rows[i][k] = flat ? 1 : resize_share(&p->options.resize, 0, height, tall, i, k);
    for (j = 0; j < wide; ++j)
        for (l = 0; l < width; ++l) columns[j][l] = resize_share(&p->options.resize, 1, width, wide, j, l);
    for (n = 0; n < x[0] * x[1]; ++n)
        for (i = 0; i < tall; ++i)
            for (j = 0; j < wide; ++j, ++y)
                for (k = 0, *y = 0; k < height; ++k)
                    for (l = 0; rows[i][k] > 0 && l < width; ++l)
                        *y += rows[i][k] * columns[j][l] * p->x[0][(n * height + k) * width + l];
}

/* x [N, A, B] by an index [N, K] or [N, A, K] */
static void oracle_gather(const problem *p, double *y)
{
    const int *x = p->shape[0].size, *o = p->out.size, *index = p->shape[1].size;
    bool whole = p->shape[1].rank == 2;
    int n, a, b;
    for (n = 0; n < o[0]; ++n)
        for (a = 0; a < o[1]; ++a)
            for (b = 0; b < o[2]; ++b) {
                int at = whole ? (int)p->x[1][n * index[1] + a]
                               : (int)p->x[1][(n * index[1] + a) * index[2] + b];
                *y++ = p->x[0][(n * x[1] + (whole ? at : a)) * x[2] + (whole ? b : at)];
            }
}

static void oracle_matmul(const problem *p, double *y)
{
    const ft_matmul_options *o = &p->options.matmul;
    int last = p->shape[0].rank - 1, m = p->out.size[last - 1], q = p->out.size[last], i, j, l;
    int k = p->shape[0].size[o->transpose_a ? last - 1 : last];
    size_t count = count_of(&p->out) / (size_t)(m * q), c;
    for (c = 0; c < count; ++c)
        for (i = 0; i < m; ++i)
            for (j = 0; j < q; ++j) {
                const double *a = p->x[0] + c * (size_t)(m * k), *b = p->x[1] + c * (size_t)(k * q);
                double sum = 0;
                for (l = 0; l < k; ++l)
                    sum += (o->transpose_a ? a[l * m + i] : a[i * k + l])
                        * (o->transpose_b ? b[j * k + l] : b[l * q + j]);
                *y++ = sum;
            }
}

/* softmax(scale q k^T) v, a row of scores at a time */
static void oracle_attention(const problem *p, double *y)
{
    const ft_attention_options *o = &p->options.attention;
    int heads = or_default(o->heads, 1), some = or_default(o->key_value_heads, heads), n, h, t, s, c;
    int steps = p->shape[0].size[1], keys = p->shape[1].size[1], all_k = p->shape[1].size[2];
    int width = p->shape[0].size[2] / heads, all_v = p->shape[2].size[2], wide = all_v / some;
    double *e = (double *)malloc((size_t)keys * sizeof *e);
    for (n = 0; n < p->shape[0].size[0]; ++n)
        for (t = 0; t < steps; ++t)
            for (h = 0; h < heads; ++h, y += wide) {
                bool documents = p->inputs > 3 && p->shape[3].rank == 2;
                bool lengths = p->inputs > 3 && !documents;
                int real = lengths && p->x[3][n] < keys ? (int)p->x[3][n] : keys;
                int queries = lengths && !o->all_queries ? real : steps;
                int from = documents ? t - (int)p->x[3][n * steps + t] : 0;
                int seen = o->causal && t + 1 + real - queries < real ? t + 1 + real - queries : real;
                const double *q = p->x[0] + ((n * steps + t) * heads + h) * width;
                const double *k = p->x[1] + n * keys * all_k + h / (heads / some) * width;
                const double *v = p->x[2] + n * keys * all_v + h / (heads / some) * wide;
                double sum = 0, scale = o->scale > 0 ? (double)o->scale : 1 / sqrt((double)width);
                if (!is_reached(p->only, n, h / (heads / some), t, t)) continue;
                for (c = 0; c < wide; ++c) y[c] = 0;
                if (t >= queries) continue;
                for (s = from; s < seen; ++s) {
                    double dot = 0;
                    for (c = 0; c < width; ++c) dot += q[c] * k[s * all_k + c];
                    sum += e[s] = exp(scale * dot);
                }
                for (s = from; s < seen; ++s) { /* dropped shares by the key 0 of these calls */
                    bool drops = p->training && o->dropout > 0;
                    uint64_t at = (uint64_t)(((n * heads + h) * steps + t) * keys + s);
                    double left = !drops ? 1 : ft__uniform(0, at) < o->dropout ? 0 : 1 / (1 - (double)o->dropout);
                    for (c = 0; c < wide; ++c) y[c] += left * e[s] / sum * v[s * all_v + c];
                }
            }
    free(e);
}

/* The same from q, k and v in the columns of one input; copies them apart. */
static void oracle_packed_attention(const problem *p, double *y)
{
    const ft_attention_options *o = &p->options.attention;
    int heads = or_default(o->heads, 1), some = or_default(o->key_value_heads, heads), i, c;
    int all = p->shape[0].size[2], width = all / (heads + 2 * some), from = 0;
    int rows = p->shape[0].size[0] * p->shape[0].size[1];
    problem apart = *p;
    apart.inputs = p->inputs + 2;
    apart.x[3] = p->x[1];
    apart.shape[3] = p->shape[1];
    for (i = 0; i < 3; ++i) {
        int columns = (i == 0 ? heads : some) * width, row;
        apart.shape[i] = shape3(p->shape[0].size[0], p->shape[0].size[1], columns);
        apart.x[i] = (double *)malloc((size_t)(rows * columns) * sizeof(double));
        for (row = 0; row < rows; ++row)
            for (c = 0; c < columns; ++c) apart.x[i][row * columns + c] = p->x[0][row * all + from + c];
        from += columns;
    }
    oracle_attention(&apart, y);
    for (i = 0; i < 3; ++i) free(apart.x[i]);
}

static double rotary_frequency(const ft_rotary_options *o, double share)
{
    double f = pow(o->base > 0 ? (double)o->base : 1e4, -share), factor = (double)o->factor;
    double low = or_default((int)o->low_frequency_factor, 1), smooth;
    double high = or_default((int)o->high_frequency_factor, 4);
    double length = or_default(o->original_length, 8192), wave = 6.283185307179586 / f;
    if (o->scaling == FT_ROTARY_LINEAR) return f / factor;
    if (o->scaling != FT_ROTARY_LLAMA3 || wave < length / high) return f;
    if (wave > length / low) return f / factor;
    smooth = (length / wave - low) / (high - low);
    return (1 - smooth) * f / factor + smooth * f;
}

static void oracle_rotary(const problem *p, double *y)
{
    const ft_rotary_options *o = &p->options.rotary;
    const int *x = p->shape[0].size;
    int heads = or_default(o->heads, 1), width = x[2] / heads, n, t, h, i;
    int pairs = or_default(o->dimensions, width) / 2;
    memcpy(y, p->x[0], count_of(&p->out) * sizeof *y);
    for (n = 0; n < x[0]; ++n)
        for (t = 0; t < x[1]; ++t)
            for (h = 0; h < heads; ++h)
                for (i = 0; i < pairs; ++i) {
                    int place = p->inputs > 1 ? (int)p->x[1][n * x[1] + t] : t;
                    /* the frequency, and its product with the position, are float32 in PyTorch */
                    float f = (float)rotary_frequency(o, (double)i / pairs) * (float)place;
                    int at = ((n * x[1] + t) * heads + h) * width;
                    int a = at + (o->interleaved ? 2 * i : i), b = o->interleaved ? a + 1 : a + pairs;
                    y[a] = p->x[0][a] * cos((double)f) - p->x[0][b] * sin((double)f);
                    y[b] = p->x[0][b] * cos((double)f) + p->x[0][a] * sin((double)f);
                }
}

static void oracle_add_positions(const problem *p, double *y)
{
    const int *x = p->shape[0].size;
    int n, t, i;
    for (n = 0; n < x[0]; ++n)
        for (t = 0; t < x[1]; ++t)
            for (i = 0; i < x[2]; ++i, ++y) {
                int place = p->inputs > 2 ? (int)p->x[2][n * x[1] + t] : t + p->options.add_positions.first;
                *y = p->x[0][(n * x[1] + t) * x[2] + i] + p->x[1][place * x[2] + i];
            }
}

static void oracle_linear(const problem *p, double *y)
{
    int rank = p->shape[0].rank, in = p->shape[1].size[1], out = p->shape[1].size[0], i, j;
    size_t rows = count_of(&p->shape[0]) / (size_t)p->shape[0].size[rank - 1], r;
    size_t of_sample = rows / (size_t)p->shape[0].size[0];
    for (r = 0; r < rows; ++r)
        for (j = 0; j < out; ++j, ++y) {
            double sum = p->inputs > 2 ? p->x[2][j] : 0;
            if (!is_reached(p->only, (int)(r / of_sample), j, 0, 0)) continue;
            for (i = 0; i < in; ++i) sum += p->x[0][r * (size_t)in + (size_t)i] * p->x[1][j * in + i];
            *y = sum;
        }
}

static void oracle_batch_norm(const problem *p, double *y)
{
    const ft_shape *s = &p->shape[0];
    size_t plane = s->rank == 4 ? (size_t)(s->size[2] * s->size[3]) : 1, n, c, i;
    size_t channels = (size_t)s->size[1], batch = (size_t)s->size[0];
    double eps = p->options.batch_norm.eps > 0 ? (double)p->options.batch_norm.eps : 1e-5;
    for (c = 0; c < channels; ++c) {
        double mean = p->x[3][c], var = p->x[4][c], sum = 0, squares = 0;
        if (p->training) {
            for (n = 0; n < batch; ++n)
                for (i = 0; i < plane; ++i) sum += p->x[0][(n * channels + c) * plane + i];
            mean = sum / (double)(batch * plane);
            for (n = 0; n < batch; ++n)
                for (i = 0; i < plane; ++i) {
                    double d = p->x[0][(n * channels + c) * plane + i] - mean;
                    squares += d * d;
                }
            var = squares / (double)(batch * plane);
        }
        for (n = 0; n < batch; ++n)
            for (i = 0; i < plane; ++i) {
                size_t at = (n * channels + c) * plane + i;
                y[at] = (p->x[0][at] - mean) / sqrt(var + eps) * p->x[1][c] + p->x[2][c];
            }
    }
}

static double activation(const char *op, const ft_activation_options *o, double x)
{
    double slope = o->slope > 0 ? (double)o->slope : 0.01;
    double alpha = o->alpha > 0 ? (double)o->alpha : 1, lambda = o->lambda > 0 ? (double)o->lambda : 0.5;
    if (!strcmp(op, "sigmoid")) return 1 / (1 + exp(-x));
    if (!strcmp(op, "tanh")) return tanh(x);
    if (!strcmp(op, "relu")) return x > 0 ? x : 0;
    if (!strcmp(op, "relu6")) return x < 0 ? 0 : x > 6 ? 6 : x;
    if (!strcmp(op, "leaky_relu")) return x > 0 ? x : slope * x;
    if (!strcmp(op, "elu")) return x > 0 ? x : alpha * expm1(x);
    if (!strcmp(op, "softplus")) return log1p(exp(x));
    if (!strcmp(op, "softsign")) return x / (1 + fabs(x));
    if (!strcmp(op, "silu")) return x / (1 + exp(-x));
    if (!strcmp(op, "mish")) return x * tanh(log1p(exp(x)));
    if (!strcmp(op, "selu")) return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x));
    if (!strcmp(op, "celu")) return x > 0 ? x : alpha * expm1(x / alpha);
    if (!strcmp(op, "hardsigmoid")) return fmin(fmax(x + 3, 0), 6) / 6;
    if (!strcmp(op, "hardswish")) return x * fmin(fmax(x + 3, 0), 6) / 6;
    if (!strcmp(op, "logsigmoid")) return -log1p(exp(-x));
    if (!strcmp(op, "softshrink")) return x > lambda ? x - lambda : x < -lambda ? x + lambda : 0;
    if (!strcmp(op, "tanhshrink")) return x - tanh(x);
    if (!strcmp(op, "quick_gelu")) return x / (1 + exp(-1.702 * x));
    if (!strcmp(op, "hardtanh"))
        return o->min < o->max ? fmin(fmax(x, (double)o->min), (double)o->max) : fmin(fmax(x, -1), 1);
    if (!strcmp(op, "threshold")) return x > (double)o->threshold ? x : (double)o->value;
    if (strcmp(op, "gelu")) return NAN; /* each needs an oracle here */
    if (o->tanh_approximation)
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

static void oracle_activation(const problem *p, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&p->shape[0]); ++i)
        y[i] = activation(p->op, &p->options.activation, p->x[0][i]);
}

/* The size of an activation's axis, and of all axes before and behind it. */
static size_t axis_size(const problem *p, size_t *outer, size_t *inner)
{
    int rank = p->shape[0].rank, axis = or_default(p->options.activation.axis, rank - 1), d;
    *outer = *inner = 1;
    for (d = 0; d < axis; ++d) *outer *= (size_t)p->shape[0].size[d];
    for (d = axis + 1; d < rank; ++d) *inner *= (size_t)p->shape[0].size[d];
    return (size_t)p->shape[0].size[axis];
}

static void oracle_softmax(const problem *p, double *y)
{
    size_t outer, inner, size = axis_size(p, &outer, &inner), a, b, i;
    double sign = strcmp(p->op, "softmin") ? 1 : -1;
    for (a = 0; a < outer; ++a)
        for (b = 0; b < inner; ++b) {
            double sum = 0;
            for (i = 0; i < size; ++i) sum += exp(sign * p->x[0][(a * size + i) * inner + b]);
            for (i = 0; i < size; ++i) {
                double share = exp(sign * p->x[0][(a * size + i) * inner + b]) / sum;
                y[(a * size + i) * inner + b] = strcmp(p->op, "log_softmax") ? share : log(share);
            }
        }
}

static void oracle_glu(const problem *p, double *y)
{
    size_t outer, inner, half = axis_size(p, &outer, &inner) / 2, a, b, i;
    for (a = 0; a < outer; ++a)
        for (i = 0; i < half; ++i)
            for (b = 0; b < inner; ++b)
                y[(a * half + i) * inner + b] = p->x[0][(a * 2 * half + i) * inner + b]
                    / (1 + exp(-p->x[0][(a * 2 * half + half + i) * inner + b]));
}

static void oracle_prelu(const problem *p, double *y)
{
    size_t count = count_of(&p->shape[0]), channels = count_of(&p->shape[1]), inner = 1, i;
    int d;
    for (d = 2; d < p->shape[0].rank; ++d) inner *= (size_t)p->shape[0].size[d];
    for (i = 0; i < count; ++i)
        y[i] = p->x[0][i] * (p->x[0][i] > 0 ? 1 : p->x[1][channels > 1 ? i / inner % channels : 0]);
}

static void oracle_pool(const problem *p, double *y)
{
    const ft_pool2d_options *o = &p->options.pool2d;
    const int *x = p->shape[0].size;
    bool all = !o->padding[1] && !o->padding[2] && !o->padding[3];
    bool largest = !strcmp(p->op, "max_pool2d");
    int kh = o->kernel[0], kw = or_default(o->kernel[1], kh), n, i, j, r, s;
    int sh = or_default(o->stride[0], kh), sw = or_default(o->stride[1], or_default(o->stride[0], kw));
    int top = o->padding[0], left = all ? top : o->padding[1];
    int bottom = all ? top : o->padding[2], right = all ? top : o->padding[3];
    for (n = 0; n < x[0] * x[1]; ++n)
        for (i = 0; i < p->out.size[2]; ++i)
            for (j = 0; j < p->out.size[3]; ++j) {
                double best = -1e300, sum = 0, inside = 0, area = 0;
                for (r = i * sh - top; r < i * sh - top + kh; ++r)
                    for (s = j * sw - left; s < j * sw - left + kw; ++s) {
                        double v;
                        if (r < x[2] + bottom && s < x[3] + right) area += 1;
                        if (r < 0 || s < 0 || r >= x[2] || s >= x[3]) continue;
                        v = p->x[0][(n * x[2] + r) * x[3] + s];
                        inside += 1;
                        sum += v;
                        if (v > best) best = v;
                    }
                *y++ = largest ? best : sum / (o->exclude_padding ? inside : area);
            }
}

static void oracle_global(const problem *p, double *y)
{
    size_t planes = (size_t)(p->shape[0].size[0] * p->shape[0].size[1]), n, i;
    size_t plane = (size_t)(p->shape[0].size[2] * p->shape[0].size[3]);
    for (n = 0; n < planes; ++n) {
        double sum = 0, best = -1e300;
        for (i = 0; i < plane; ++i) {
            double v = p->x[0][n * plane + i];
            sum += v;
            if (v > best) best = v;
        }
        y[n] = strcmp(p->op, "global_max_pool") ? sum / (double)plane : best;
    }
}

static void oracle_copy(const problem *p, double *y)
{
    memcpy(y, p->x[0], count_of(&p->shape[0]) * sizeof *y);
}

/* The index in an input of number i of y: it is padded with sizes of 1 in front, and repeated along
   them. */
static size_t term_at(const ft_shape *y, const ft_shape *x, size_t i)
{
    size_t at = 0, stride = 1;
    int d;
    for (d = y->rank - 1; d >= 0; --d) {
        size_t index = i % (size_t)y->size[d];
        int e = d - (y->rank - x->rank), size = e >= 0 ? x->size[e] : 1;
        i /= (size_t)y->size[d];
        at += (size == 1 ? 0 : index) * stride;
        stride *= (size_t)size;
    }
    return at;
}

static double pair_of(const char *op, double a, double b)
{
    if (!strcmp(op, "add")) return a + b;
    if (!strcmp(op, "mul")) return a * b;
    if (!strcmp(op, "sub")) return a - b;
    if (!strcmp(op, "div")) return a / b;
    if (!strcmp(op, "maximum")) return fmax(a, b);
    if (!strcmp(op, "minimum")) return fmin(a, b);
    if (!strcmp(op, "power")) return pow(a, b);
    if (!strcmp(op, "expand_as")) return a;
    if (!strcmp(op, "equal")) return a == b;
    if (!strcmp(op, "not_equal")) return a != b;
    if (!strcmp(op, "less")) return a < b;
    if (!strcmp(op, "less_equal")) return a <= b;
    return !strcmp(op, "greater") ? a > b : a >= b;
}

static void oracle_pair(const problem *p, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&p->out); ++i)
        y[i] = pair_of(p->op, p->x[0][term_at(&p->out, &p->shape[0], i)],
                       p->x[1][term_at(&p->out, &p->shape[1], i)]);
}

static double unary_of(const char *op, const ft_unary_options *o, double x)
{
    if (!strcmp(op, "exp")) return exp(x);
    if (!strcmp(op, "log")) return log(x);
    if (!strcmp(op, "sqrt")) return sqrt(x);
    if (!strcmp(op, "abs")) return fabs(x);
    if (!strcmp(op, "neg")) return -x;
    if (!strcmp(op, "erf")) return erf(x);
    if (!strcmp(op, "pow")) return pow(x, (double)o->exponent);
    if (!strcmp(op, "clamp")) return fmin(fmax(x, (double)o->min), (double)o->max);
    if (!strcmp(op, "floor")) return floor(x);
    if (!strcmp(op, "ceil")) return ceil(x);
    if (!strcmp(op, "round")) return fabs(x - floor(x) - 0.5) < 1e-9 ? 2 * floor((x + 0.5) / 2) : floor(x + 0.5);
    if (!strcmp(op, "sign")) return (x > 0) - (x < 0);
    if (!strcmp(op, "to_i32")) return x < 0 ? ceil(x) : floor(x);
    return !strcmp(op, "affine") ? (double)o->scale * x + (double)o->shift : x;
}

static void oracle_unary(const problem *p, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&p->shape[0]); ++i)
        y[i] = unary_of(p->op, &p->options.unary, p->x[0][i]);
}

/* Each number of x goes to one of y, whose indices are x's but along the axes that are reduced. */
static void oracle_reduce(const problem *p, double *y)
{
    const ft_reduce_options *o = &p->options.reduce;
    const ft_shape *x = &p->shape[0];
    size_t i, k, count = count_of(x), each = count / count_of(&p->out);
    bool gone[FINETUNE_MAX_RANK], largest = !strcmp(p->op, "amax"), smallest = !strcmp(p->op, "amin");
    bool prod = !strcmp(p->op, "prod"), norm = !strcmp(p->op, "norm"), logs = !strcmp(p->op, "logsumexp");
    int d;
    for (d = 0; d < x->rank; ++d) gone[d] = o->count == 0;
    for (d = 0; d < o->count; ++d) gone[(o->axes[d] + x->rank) % x->rank] = true;
    for (k = 0; k < count_of(&p->out); ++k) y[k] = largest ? -1e300 : smallest ? 1e300 : prod;
    for (i = 0; i < count; ++i) {
        size_t rest = i, at = 0, stride = 1;
        for (d = x->rank - 1; d >= 0; --d) {
            if (!gone[d]) at += rest % (size_t)x->size[d] * stride;
            if (!gone[d]) stride *= (size_t)x->size[d];
            rest /= (size_t)x->size[d];
        }
        if (largest) y[at] = fmax(y[at], p->x[0][i]);
        else if (smallest) y[at] = fmin(y[at], p->x[0][i]);
        else if (prod) y[at] *= p->x[0][i];
        else if (norm) y[at] += p->x[0][i] * p->x[0][i];
        else if (logs) y[at] += exp(p->x[0][i]);
        else y[at] += p->x[0][i] / (strcmp(p->op, "mean") ? 1 : (double)each);
    }
    for (k = 0; k < count_of(&p->out); ++k) y[k] = norm ? sqrt(y[k]) : logs ? log(y[k]) : y[k];
}

static void oracle_where(const problem *p, double *y)
{
    size_t i;
    for (i = 0; i < count_of(&p->out); ++i) {
        double c = p->x[0][term_at(&p->out, &p->shape[0], i)];
        int of = c != 0 ? 1 : 2;
        y[i] = p->x[of][term_at(&p->out, &p->shape[of], i)];
    }
}

static void oracle_concat(const problem *p, double *y)
{
    int n, i;
    for (n = 0; n < p->shape[0].size[0]; ++n) /* axis 1 */
        for (i = 0; i < p->inputs; ++i) {
            size_t each = count_of(&p->shape[i]) / (size_t)p->shape[i].size[0];
            memcpy(y, p->x[i] + (size_t)n * each, each * sizeof *y);
            y += each;
        }
}

/* pad and slice: output element [a][b][c][d] is input at some place, or `value` */
static void oracle_window(const problem *p, double *y)
{
    const int *x = p->shape[0].size, *o = p->out.size;
    bool pad = !strcmp(p->op, "pad");
    ft_pad_mode mode = p->options.pad.mode;
    int at[4], from[4], d;
    for (at[0] = 0; at[0] < o[0]; ++at[0])
        for (at[1] = 0; at[1] < o[1]; ++at[1])
            for (at[2] = 0; at[2] < o[2]; ++at[2])
                for (at[3] = 0; at[3] < o[3]; ++at[3]) {
                    bool inside = true;
                    for (d = 0; d < 4; ++d) {
                        from[d] = pad ? at[d] - p->options.pad.before[d] : p->options.slice.start[d]
                            + at[d] * or_default(p->options.slice.step[d], 1);
                        if (pad && mode == FT_PAD_CIRCULAR) from[d] = (from[d] + x[d]) % x[d];
                        if (pad && mode == FT_PAD_REPLICATE) from[d] = (int)fmin(fmax(from[d], 0), x[d] - 1);
                        if (pad && mode == FT_PAD_REFLECT) from[d] = x[d] - 1 - abs(x[d] - 1 - abs(from[d]));
                        if (from[d] < 0 || from[d] >= x[d]) inside = false;
                    }
                    *y++ = inside ? p->x[0][((from[0] * x[1] + from[1]) * x[2] + from[2]) * x[3]
                                            + from[3]] : pad ? (double)p->options.pad.value : 0;
                }
}

/* The same of [N, A, B]. */
static void oracle_flat_window(const problem *p, double *y)
{
    problem q = *p;
    q.shape[0] = shape4(p->shape[0].size[0], p->shape[0].size[1], p->shape[0].size[2], 1);
    q.out = shape4(p->out.size[0], p->out.size[1], p->out.size[2], 1);
    oracle_window(&q, y);
}

static void oracle_tile(const problem *p, double *y)
{
    int at[4], x[4] = {1, 1, 1, 1}, o[4] = {1, 1, 1, 1}, d;
    for (d = 0; d < p->out.rank; ++d) x[d] = p->shape[0].size[d];
    for (d = 0; d < p->out.rank; ++d) o[d] = p->out.size[d];
    for (at[0] = 0; at[0] < o[0]; ++at[0])
        for (at[1] = 0; at[1] < o[1]; ++at[1])
            for (at[2] = 0; at[2] < o[2]; ++at[2])
                for (at[3] = 0; at[3] < o[3]; ++at[3])
                    *y++ = p->x[0][((at[0] * x[1] + at[1] % x[1]) * x[2] + at[2] % x[2]) * x[3] + at[3] % x[3]];
}

/* The line along `axis` that number i of x is in: where it begins, its step and its size. */
static size_t line_of(const ft_shape *x, int axis, size_t i, size_t *step, size_t *size)
{
    int d;
    *step = 1;
    for (d = axis + 1; d < x->rank; ++d) *step *= (size_t)x->size[d];
    *size = (size_t)x->size[axis];
    return i - i / *step % *size * *step;
}

static int axis_named(int axis, int rank) { return axis == 0 ? rank - 1 : axis < 0 ? axis + rank : axis; }

static void oracle_cumsum(const problem *p, double *y)
{
    const ft_cumsum_options *o = &p->options.cumsum;
    size_t i, k, step, size, count = count_of(&p->out);
    for (i = 0; i < count; ++i) {
        size_t start = line_of(&p->out, axis_named(o->axis, p->out.rank), i, &step, &size);
        for (k = 0, y[i] = 0; k < size; ++k) {
            size_t at = start + k * step;
            if (at == i ? !o->exclusive : o->reverse ? at > i : at < i) y[i] += p->x[0][at];
        }
    }
}

/* Each number's rank is how many stand before it. */
static void oracle_topk(const problem *p, double *y)
{
    const ft_topk_options *o = &p->options.topk;
    const ft_shape *x = &p->shape[0];
    int axis = axis_named(o->axis, x->rank);
    size_t i, k, step, size, count = count_of(x), most = (size_t)or_default(o->count, 1);
    for (i = 0; i < count; ++i) {
        size_t start = line_of(x, axis, i, &step, &size), rank = 0;
        for (k = 0; k < size; ++k) {
            double a = p->x[0][start + k * step], b = p->x[0][i];
            rank += (o->smallest ? a < b : a > b) || (a == b && start + k * step < i);
        }
        if (rank < most)
            y[i / (step * size) * step * most + rank * step + i % step] = (double)((i - start) / step);
    }
}

/* x [N, A, B] by an index [K] */
static void oracle_gather_list(const problem *p, double *y)
{
    const int *x = p->shape[0].size, *o = p->out.size;
    bool first = p->options.concat.axis == 1;
    int n, a, b;
    for (n = 0; n < o[0]; ++n)
        for (a = 0; a < o[1]; ++a)
            for (b = 0; b < o[2]; ++b)
                *y++ = p->x[0][(n * x[1] + (first ? (int)p->x[1][a] : a)) * x[2] + (first ? b : (int)p->x[1][b])];
}

static double or_option(float value, double otherwise) { return value != 0 ? (double)value : otherwise; }

/* focal and hinge: the mean over the labels that count. */
static void oracle_label_loss(const problem *p, double *y)
{
    int classes = p->shape[0].size[p->shape[0].rank - 1], c;
    size_t rows = count_of(&p->shape[1]), n;
    double sum = 0, counted = 0, margin = or_option(p->options.loss.margin, 1);
    for (n = 0; n < rows; ++n) {
        const double *x = p->x[0] + n * (size_t)classes;
        double all = 0, of_label, over = 0;
        if (p->x[1][n] < 0) continue;
        of_label = x[(int)p->x[1][n]];
        for (c = 0; c < classes; ++c) all += exp(x[c]);
        for (c = 0; c < classes; ++c)
            if (c != (int)p->x[1][n]) over += fmax(0, margin - of_label + x[c]) / classes;
        sum += !strcmp(p->op, "hinge") ? over
            : -pow(1 - exp(of_label) / all, or_option(p->options.loss.gamma, 2)) * (of_label - log(all));
        counted += 1;
    }
    y[0] = sum / counted;
}

/* Every path of classes, one for each step: those that stand for the labels add up. */
static void oracle_ctc(const problem *p, double *y)
{
    const int *size = p->shape[0].size;
    const ft_loss_options *o = &p->options.loss;
    int most = p->shape[1].size[1], paths = 1, n, t, path, k;
    double mean = 0;
    for (t = 0; t < size[1]; ++t) paths *= size[2];
    for (n = 0; n < size[0]; ++n) {
        const double *x = p->x[0] + n * size[1] * size[2], *labels = p->x[1] + n * most;
        int count = 0, left[8] = {0};
        double sum = 0;
        for (k = 0; k < most; ++k)
            if (labels[k] >= 0) left[count++] = (int)labels[k];
        for (path = 0; path < paths; ++path) {
            int rest = path, before = -1, at = 0;
            double product = 1;
            for (t = 0; t < size[1] && at >= 0; ++t, rest /= size[2]) {
                int class_ = rest % size[2];
                double all = 0;
                for (k = 0; k < size[2]; ++k) all += exp(x[t * size[2] + k]);
                product *= exp(x[t * size[2] + class_]) / all;
                if (class_ != before && class_ != o->blank) at = at < count && left[at] == class_ ? at + 1 : -1;
                before = class_;
            }
            if (at == count) sum += product;
        }
        if (sum > 0 || !o->zero_infinity) mean -= log(sum) / (count ? count : 1) / size[0];
    }
    y[0] = mean;
}

static void oracle_loss(const problem *p, double *y)
{
    size_t count = count_of(&p->shape[0]), i;
    int classes = p->shape[0].size[p->shape[0].rank - 1], rows = (int)count / classes;
    int n, c, counted = 0;
    double sum = 0, smooth = (double)p->options.loss.label_smoothing;
    bool entropy = strstr(p->op, "cross_entropy") && strcmp(p->op, "binary_cross_entropy");
    for (i = 0; !entropy && i < count; ++i) {
        double x = p->x[0][i], t = p->x[1][i];
        double d = fabs(x - t), beta = or_option(p->options.loss.beta, 1);
        double delta = or_option(p->options.loss.delta, 1), gamma = or_option(p->options.loss.gamma, 2);
        double alpha = or_option(p->options.loss.alpha, 0.25), q = 1 / (1 + exp(-x));
        double share = alpha < 0 ? 1 : alpha * t + (1 - alpha) * (1 - t);
        if (!strcmp(p->op, "mse")) sum += (x - t) * (x - t);
        else if (!strcmp(p->op, "l1")) sum += d;
        else if (!strcmp(p->op, "smooth_l1")) sum += d < beta ? d * d / (2 * beta) : d - beta / 2;
        else if (!strcmp(p->op, "huber")) sum += d < delta ? d * d / 2 : delta * (d - delta / 2);
        else if (!strcmp(p->op, "sigmoid_focal"))
            sum -= share * pow(1 - q * t - (1 - q) * (1 - t), gamma) * (t * log(q) + (1 - t) * log(1 - q));
        else sum += -(t * -log1p(exp(-x)) + (1 - t) * -(x + log1p(exp(-x))));
    }
    for (n = 0; entropy && n < rows; ++n) {
        const double *x = p->x[0] + n * classes;
        double all = 0;
        for (c = 0; c < classes; ++c) all += exp(x[c]);
        if (!p->integer) {
            for (c = 0; c < classes; ++c) sum -= p->x[1][n * classes + c] * (x[c] - log(all));
            counted += 1;
        } else if (p->x[1][n] >= 0) {
            for (c = 0; c < classes; ++c)
                sum -= (smooth / classes + (c == (int)p->x[1][n] ? 1 - smooth : 0))
                    * (x[c] - log(all));
            counted += 1;
        }
    }
    y[0] = sum / (entropy ? (double)counted : (double)count);
}

/* The logits of a linear layer, then the loss. */
static void oracle_linear_cross_entropy(const problem *p, double *y)
{
    int rank = p->shape[0].rank, d = p->shape[2].size[1], v = p->shape[2].size[0], c, i;
    size_t rows = count_of(&p->shape[1]), r;
    problem of_logits = *p;
    double *logits = (double *)malloc(rows * (size_t)v * sizeof *logits);
    for (r = 0; r < rows; ++r)
        for (c = 0; c < v; ++c) {
            double sum = p->inputs > 3 ? p->x[3][c] : 0;
            for (i = 0; i < d; ++i) sum += p->x[0][r * (size_t)d + (size_t)i] * p->x[2][c * d + i];
            logits[r * (size_t)v + (size_t)c] = sum;
        }
    of_logits.op = "cross_entropy";
    of_logits.shape[0].size[rank - 1] = v;
    of_logits.x[0] = logits;
    oracle_loss(&of_logits, y);
    free(logits);
}

static void oracle_embedding(const problem *p, double *y)
{
    size_t i, count = count_of(&p->shape[0]), each = (size_t)p->shape[1].size[1], j;
    for (i = 0; i < count; ++i)
        for (j = 0; j < each; ++j)
            *y++ = p->x[0][i] < 0 ? 0 : p->x[1][(size_t)p->x[0][i] * each + j];
}

static void oracle_token_counts(const problem *p, double *y)
{
    int n, w, t, steps = p->shape[0].size[1];
    for (n = 0; n < p->shape[0].size[0]; ++n)
        for (w = 0; w < p->options.token_counts.words; ++w, ++y)
            for (t = 0, *y = 0; t < steps; ++t) *y += p->x[0][n * steps + t] == w;
}

static void oracle_step_pool(const problem *p, double *y)
{
    const ft_step_pool_options *o = &p->options.step_pool;
    int n, j, t, most = p->shape[0].size[1], c = p->shape[0].size[2];
    for (n = 0; n < p->shape[0].size[0]; ++n) {
        const double *x = p->x[0] + n * most * c;
        int steps = p->inputs > 1 ? (int)p->x[1][n] : most;
        for (j = 0; j < c; ++j, ++y) {
            double sum = 0, best = -1e300;
            for (t = 0; t < steps; ++t) {
                sum += x[t * c + j];
                if (x[t * c + j] > best) best = x[t * c + j];
            }
            if (steps == 0) *y = 0;
            else if (o->kind == FT_POOL_MEAN) *y = sum / steps;
            else if (o->kind == FT_POOL_MAX) *y = best;
            else if (o->kind == FT_POOL_FIRST) *y = x[j];
            else *y = x[(o->bidirectional && j >= c / 2 ? 0 : steps - 1) * c + j];
        }
    }
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }

/* weight row `row` times v, plus its bias */
static double affine(const problem *p, int weight, int bias, int row, const double *v, int count)
{
    double sum = bias ? p->x[bias][row] : 0;
    int i;
    for (i = 0; i < count; ++i) sum += p->x[weight][row * count + i] * v[i];
    return sum;
}

/* The new gate of a GRU whose reset gate multiplies h before the product: number j. */
static double reset_gate_before(const problem *p, int first, int j, const double *x, const double *h)
{
    const ft__recurrent_options *o = &p->options.recurrent;
    int size = o->hidden, in = p->shape[0].size[2], k;
    double sum = affine(p, first, o->no_bias ? 0 : first + 2, 2 * size + j, x, in);
    if (!o->no_bias) sum += p->x[first + 3][2 * size + j];
    for (k = 0; k < size; ++k) {
        double r = logistic(affine(p, first, o->no_bias ? 0 : first + 2, k, x, in)
                            + affine(p, first + 1, o->no_bias ? 0 : first + 3, k, h, size));
        sum += p->x[first + 1][(2 * size + j) * size + k] * r * h[k];
    }
    return tanh(sum);
}

/* One step of torch.nn.LSTM, GRU or RNN, for one sample: h and c are replaced. */
static void cell_step(const problem *p, int first, const double *x, double *h, double *c)
{
    const ft__recurrent_options *o = &p->options.recurrent;
    int size = o->hidden, in = p->shape[0].size[2], j, g;
    int gates = !strcmp(p->op, "lstm") ? 4 : !strcmp(p->op, "gru") ? 3 : 1;
    double *fresh = (double *)malloc((size_t)size * sizeof *fresh);
    for (j = 0; j < size; ++j) {
        double a[4], b[4], sum[4];
        for (g = 0; g < gates; ++g) {
            a[g] = affine(p, first, o->no_bias ? 0 : first + 2, g * size + j, x, in);
            b[g] = affine(p, first + 1, o->no_bias ? 0 : first + 3, g * size + j, h, size);
            sum[g] = a[g] + b[g];
        }
        if (gates == 4) {
            c[j] = logistic(sum[1]) * c[j] + logistic(sum[0]) * tanh(sum[2]);
            fresh[j] = logistic(sum[3]) * tanh(c[j]);
        } else if (gates == 3) {
            double n = tanh(a[2] + logistic(sum[0]) * b[2]), z = logistic(sum[1]);
            if (o->reset_before) n = reset_gate_before(p, first, j, x, h);
            fresh[j] = (1 - z) * n + z * h[j];
        } else fresh[j] = !o->relu ? tanh(sum[0]) : sum[0] > 0 ? sum[0] : 0;
    }
    memcpy(h, fresh, (size_t)size * sizeof *h);
    free(fresh);
}

static void oracle_recurrent(const problem *p, double *y)
{
    const ft__recurrent_options *o = &p->options.recurrent;
    const int *x = p->shape[0].size;
    int size = o->hidden, directions = o->bidirectional ? 2 : 1, n, d, t, s, j;
    int each = o->no_bias ? 2 : 4, lengths = 1 + directions * each, hidden = lengths + o->lengths;
    int wide = directions * (o->cells ? 2 : 1);
    bool lstm = !strcmp(p->op, "lstm");
    double h[80], c[80];
    memset(y, 0, count_of(&p->out) * sizeof *y);
    for (n = 0; n < x[0]; ++n)
        for (d = 0; d < directions; ++d) {
            int steps = o->lengths ? (int)p->x[lengths][n] : x[1], at = (n * directions + d) * size;
            for (j = 0; j < size; ++j) {
                h[j] = o->initial ? p->x[hidden][at + j] : 0;
                c[j] = o->initial && lstm ? p->x[hidden + 1][at + j] : 0;
            }
            for (s = 0; s < steps; ++s) {
                t = d ? steps - 1 - s : s;
                cell_step(p, 1 + d * each, p->x[0] + (n * x[1] + t) * x[2], h, c);
                memcpy(y + ((n * x[1] + t) * wide + d) * size, h, (size_t)size * sizeof *h);
                if (o->cells)
                    memcpy(y + ((n * x[1] + t) * wide + directions + d) * size, c,
                           (size_t)size * sizeof *c);
            }
        }
}

/* ---- Running an operator: buffers between sentinels ---- */

typedef struct buffer { float *whole, *at; size_t count; } buffer;

static buffer new_buffer(size_t count)
{
    buffer b;
    size_t i;
    b.count = count;
    b.whole = (float *)malloc((count + 2 * GUARD) * sizeof(float));
    for (i = 0; i < count + 2 * GUARD; ++i) b.whole[i] = sentinel;
    b.at = b.whole + GUARD;
    return b;
}

static bool free_buffer(buffer *b)
{
    size_t i;
    bool fine = true;
    for (i = 0; i < GUARD; ++i)
        if (b->whole[i] != sentinel || b->at[b->count + i] != sentinel) fine = false;
    free(b->whole);
    return fine;
}

/* Where a buffer may lie on a device (test_opencl.c runs these cases there): brings it back, and
   forgets it before it is freed. */
static void fetch(ft__context *c, const buffer *b)
{
    ft__to_host(c, b->at, b->count * sizeof(float));
    if (c->forget) c->forget(c, b->whole, (b->count + 2 * GUARD) * sizeof(float));
}

typedef struct outcome { buffer y, gradient[MOST_INPUTS], state[2]; bool fine; } outcome;

enum { FRESH = 1 << 20 };

/* How the tensors of the next runs are stored, in the ways that the operator's row allows. */
enum { X_ROWS = 1, Y_ROWS = 2, OTHER_ORDER = 4 };
static int stored_as;

static void store(ft__tensor *t, int op, int input)
{
    static const int orders[3][3][6] = {{{0, 1, 2}, {0, 2, 1}, {0, 2, 1}}, /* of rank 3 */
                                        {{0, 2, 1, 3}, {0, 1, 3, 2}, {0, 3, 1, 2}}, /* of rank 4 */
                                        {{0, 2, 1, 3, 4}, {0, 2, 1, 4, 3}, {0, 4, 2, 1, 3}}};
    uint64_t flags = ft__rows[op]->flags;
    int rank = t->shape.rank;
    bool either = flags & (FT__ANY_LAYOUT | FT__REORDERS);
    bool weight = (flags & FT__CHANNELS_LAST) && input > 0;
    t->channels_last = rank == 4 && (either || flags & FT__CHANNELS_LAST) && !weight;
    if (either && stored_as & (input < 0 ? Y_ROWS : X_ROWS)) t->channels_last = false;
    if (stored_as & OTHER_ORDER) t->order = orders[rank - 3][input < 0 ? stored_as / 8 % 3
                                                    : (input + stored_as / 8) % 3];
}

static const int *order_of(const ft__tensor *t)
{
    return t->order ? t->order : t->channels_last ? channels_last_order : NULL;
}

/* Runs forward and backward; `skip` is a mask of inputs whose gradient is NULL, or FRESH: gradients
   hold NaN, and backward is told to write. */
static outcome run(ft__context *c, const problem *p, const double *r, int op, int skip)
{
    ft__node node;
    ft__tensor input[MOST_INPUTS];
    ft__call call;
    ft__costs costs = {0, 0, 0, 0, 0};
    buffer values[MOST_INPUTS], saved, scratch, upstream;
    outcome out;
    size_t k;
    int i;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(input, 0, sizeof input);
    memset(&out, 0, sizeof out);
    node.op = op;
    node.name = (char *)(uintptr_t)p->op;
    node.options = p->options;
    for (i = 0; i < p->inputs; ++i) {
        input[i].shape = p->shape[i];
        values[i] = new_buffer(count_of(&p->shape[i]));
        out.gradient[i] = new_buffer(values[i].count);
        for (k = 0; k < values[i].count; ++k) {
            values[i].at[k] = (float)p->x[i][k];
            if (i == p->integer - 1)
                ((int32_t *)(void *)values[i].at)[k] = (int32_t)p->x[i][k];
            out.gradient[i].at[k] = skip == FRESH ? NAN : 0.125f * (float)(k % 7);
        }
        input[i].fresh = skip == FRESH;
        input[i].type = i == p->integer - 1 ? FT_I32 : FT_F32;
        store(&input[i], op, i);
        reorder(values[i].at, &p->shape[i], order_of(&input[i]), true);
        reorder(out.gradient[i].at, &p->shape[i], order_of(&input[i]), true);
        input[i].value = values[i].at;
        input[i].gradient = skip & 1 << i || input[i].type == FT_I32 ? NULL : out.gradient[i].at;
    }
    call.context = c;
    call.node = &node;
    call.input = input;
    call.input_count = p->inputs;
    call.training = p->training;
    call.output.shape = p->out;
    out.y = new_buffer(count_of(&p->out));
    upstream = new_buffer(out.y.count);
    for (k = 0; k < out.y.count; ++k) upstream.at[k] = (float)r[k];
    store(&call.output, op, -1);
    reorder(upstream.at, &p->out, order_of(&call.output), true);
    call.output.value = out.y.at;
    call.output.gradient = upstream.at;
    call.training = true; /* room for backward too */
    if (ft__rows[op]->costs) ft__rows[op]->costs(&call, &costs);
    call.training = p->training;
    saved = new_buffer((costs.saved + 3) / 4); /* not one number more than is stated */
    scratch = new_buffer((costs.workspace + 3) / 4);
    call.saved = saved.at;
    call.workspace = scratch.at;
    ft__run_operator(&call, false);
    if (ft__rows[op]->backward) ft__run_operator(&call, true);
    fetch(c, &out.y);
    fetch(c, &upstream);
    fetch(c, &saved);
    fetch(c, &scratch);
    for (i = 0; i < p->inputs; ++i) {
        fetch(c, &values[i]);
        fetch(c, &out.gradient[i]);
    }
    out.fine = c->status == FT_OK;
    for (k = 0; k < out.y.count && ft__rows[op]->flags & FT__INTEGERS; ++k)
        out.y.at[k] = (float)((int32_t *)(void *)out.y.at)[k];
    reorder(out.y.at, &p->out, order_of(&call.output), false);
    for (i = 0; i < p->inputs; ++i) {
        reorder(values[i].at, &p->shape[i], order_of(&input[i]), false);
        reorder(out.gradient[i].at, &p->shape[i], order_of(&input[i]), false);
        if (i >= 3 && is_norm(p)) { /* running statistics are state: kept for a look */
            out.state[i - 3] = values[i];
            continue;
        }
        for (k = 0; k < values[i].count && input[i].type == FT_F32; ++k)
            if (values[i].at[k] != (float)p->x[i][k]) out.fine = false; /* inputs are read only */
        if (!free_buffer(&values[i])) out.fine = false;
    }
    if (!free_buffer(&saved) || !free_buffer(&scratch) || !free_buffer(&upstream)) out.fine = false;
    return out;
}

static bool free_outcome(outcome *out, int inputs)
{
    bool fine = out->fine && free_buffer(&out->y);
    int i;
    for (i = 0; i < inputs; ++i)
        if (!free_buffer(&out->gradient[i])) fine = false;
    for (i = 0; i < 2; ++i)
        if (out->state[i].whole && !free_buffer(&out->state[i])) fine = false;
    return fine;
}

/* ---- One case ---- */

static const char *repeat_text(const problem *p, int number)
{
    static char text[80];
    snprintf(text, sizeof text, "again: build/test_operators %s %d", p->op, number);
    return text;
}

/* Of gradients of more than 6,000 numbers a sample of 1,000 to 2,000 is compared, evenly spread, at odd
   steps, so that every row, column and channel is met. */
static size_t sample_of(size_t count) { return count <= 6000 ? 1 : (count / 2000 + 1) | 1; }

static void compare(const problem *p, int number, const char *what, const float *got,
                    const double *want, size_t count)
{
    double largest = 0;
    size_t i, bad = 0, at = 0, step = strncmp(what, "gradient", 8) == 0 ? sample_of(count) : 1;
    for (i = 0; i < count; i += step)
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    for (i = 0; i < count; i += step)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * largest + 1e-7)) {
            if (!bad) at = i;
            bad += 1;
        }
    CHECK(bad == 0, "%s, case %d, %s: %zu of %zu wrong; [%zu] is %.9g, not %.9g (%s)", p->op, number,
          what, bad, count, at, (double)got[at], want[at], repeat_text(p, number));
}

/* Whether the oracle leaves out what a number does not reach. Without this conv2d, linear and attention
   take most of the seconds of all operators. */
static bool knows_reach(oracle f)
{
    return f == oracle_conv2d || f == oracle_linear || f == oracle_attention || f == oracle_packed_attention;
}

/* What number k of input i of one of these reaches. */
static reach reach_of(const problem *p, oracle f, int i, size_t k)
{
    const int *size = p->shape[i].size;
    reach to = {-1, -1, -1};
    size_t each = count_of(&p->shape[i]) / (size_t)size[0];
    bool by_steps = f == oracle_attention || f == oracle_packed_attention;
    if (i > 0 && !by_steps) to.channel = (int)(k / each);
    else to.sample = (int)(k / each);
    if (i == 0 && f == oracle_conv2d) to.row = (int)(k / (size_t)size[3] % (size_t)size[2]);
    if (i == 0 && f == oracle_attention) to.row = (int)(k / (size_t)size[2] % (size_t)size[1]);
    if (f == oracle_attention) { /* query heads share the key and value heads evenly */
        const ft_attention_options *o = &p->options.attention;
        int shared = or_default(o->key_value_heads, or_default(o->heads, 1));
        to.channel = (int)(k % (size_t)size[2]) / (size[2] / shared);
    }
    return to;
}

/* d(sum r y)/dx[i][k] by central differences of the oracle; of a sample, where there are many */
static void numeric_gradient(const problem *p, oracle f, const double *r, int i, double *to)
{
    size_t count = count_of(&p->shape[i]), outputs = count_of(&p->out), k, j;
    double *high = (double *)calloc(outputs, sizeof(double));
    double *low = (double *)calloc(outputs, sizeof(double));
    problem one = *p;
    const double h = 1e-5;
    for (k = 0; k < count; k += sample_of(count)) {
        double kept = p->x[i][k], sum = 0;
        reach near;
        if (knows_reach(f)) {
            near = reach_of(p, f, i, k);
            one.only = &near;
            memset(high, 0, outputs * sizeof *high);
            memset(low, 0, outputs * sizeof *low);
        }
        p->x[i][k] = kept + h;
        f(&one, high);
        p->x[i][k] = kept - h;
        f(&one, low);
        p->x[i][k] = kept;
        for (j = 0; j < outputs; ++j) sum += r[j] * (high[j] - low[j]);
        to[k] = sum / (2 * h) + 0.125 * (double)(k % 7);
    }
    free(high);
    free(low);
}

/* The same, kept from the last time: one case runs in several forms of the products (test_opencl.c),
   and most of the seconds are spent here. What it depends on is compared; the numbers follow from
   it (see fill and check_case). */
static const double *expected_gradient(const problem *p, oracle f, const double *r, int i)
{
    static struct known { problem p; oracle f; int input; bool few_bits; double *gradient; } *all;
    static size_t count;
    size_t k;
    for (k = 0; k < count; ++k)
        if (all[k].f == f && all[k].input == i && all[k].few_bits == few_bits
            && !strcmp(all[k].p.op, p->op) && all[k].p.inputs == p->inputs
            && all[k].p.training == p->training && all[k].p.integer == p->integer
            && !memcmp(&all[k].p.options, &p->options, sizeof p->options)
            && !memcmp(all[k].p.shape, p->shape, sizeof p->shape)) return all[k].gradient;
    all = (struct known *)realloc(all, (count + 1) * sizeof *all);
    all[count].p = *p;
    all[count].f = f;
    all[count].input = i;
    all[count].few_bits = few_bits;
    all[count].gradient = (double *)malloc(count_of(&p->shape[i]) * sizeof(double));
    numeric_gradient(p, f, r, i, all[count].gradient);
    return all[count++].gradient;
}

static bool has_gradient(const problem *p, int i)
{
    if (!strcmp(p->op, "sigmoid_focal") && i > 0) return false;
    if (i == p->integer - 1) return false;
    if (is_norm(p)) return i < 3;
    if (!ft__rows[ft__op_named(p->op)]->backward) return false;
    if (!strcmp(p->op, "where")) return i > 0;
    if (!strcmp(p->op, "expand_as")) return i == 0;
    return !(i == 1 && strstr(p->op, "cross_entropy"));
}

static void check_gradients(ft__context *c, problem *p, oracle f, int op, int number,
                            const double *r, const outcome *first)
{
    int i, skip;
    for (i = 0; i < p->inputs; ++i) {
        size_t count = count_of(&p->shape[i]);
        char what[32];
        if (!has_gradient(p, i)) continue;
        snprintf(what, sizeof what, "gradient %d", i);
        compare(p, number, what, first->gradient[i].at, expected_gradient(p, f, r, i), count);
    }
    for (skip = 0; !briefly && skip < p->inputs; ++skip) { /* without one of them the others are the same */
        outcome out = run(c, p, r, op, 1 << skip);
        for (i = 0; i < p->inputs; ++i)
            if (i != skip)
                CHECK(!memcmp(out.gradient[i].at, first->gradient[i].at,
                              out.gradient[i].count * sizeof(float)),
                      "%s, case %d: gradient %d without %d (%s)", p->op, number, i, skip,
                      repeat_text(p, number));
        CHECK(free_outcome(&out, p->inputs), "%s, case %d: wrote outside", p->op, number);
    }
}

/* The place of a step in its document, which have 1 to a third of all steps. */
static double place_at(size_t step, size_t steps)
{
    size_t start = 0, length = 1, d;
    for (d = 0; start + length <= step; ++d) {
        start += length;
        length = 1 + (d * 11 + 3) % (steps / 3 + 1);
    }
    return (double)(step - start);
}

/* Labels, some of them ignored; words, some of them none; places; or lengths from 0 to all steps. */
static double integer_at(const problem *p, size_t k, size_t count)
{
    size_t classes = (size_t)p->shape[0].size[p->shape[0].rank - 1];
    if (!strcmp(p->op, "embedding"))
        return k % 5 == 4 ? -1 : (double)(k * 7 % (size_t)p->shape[1].size[0]);
    if (!strcmp(p->op, "linear_cross_entropy")) classes = (size_t)p->shape[2].size[0];
    if (!strcmp(p->op, "attention") && p->shape[p->inputs - 1].rank == 2)
        return p->options.attention.scale == 0.5f /* positions of nothing: each row has its own */
            ? (double)(k * 37 % (k % (size_t)p->shape[0].size[1] + 1))
            : place_at(k % (size_t)p->shape[0].size[1], (size_t)p->shape[0].size[1]);
    if (!strcmp(p->op, "token_counts"))
        return k % 5 == 4 ? -1 : (double)(k * k * 7 % (size_t)p->options.token_counts.words);
    if (!strcmp(p->op, "rotary")) return (double)(k * 37 % 5000);
    if (!strcmp(p->op, "add_positions")) return (double)(k * 7 % (size_t)p->shape[1].size[0]);
    if (!strcmp(p->op, "gather")) return (double)(k * 7 % classes);
    if (!strcmp(p->op, "ctc_loss")) { /* of 4 classes: a repeated label, one apart, none */
        static const int labels[] = {1, 1, 2, 3, -1, 3, -100, -1, -1};
        int label = labels[k % 9];
        return label > 0 && label == p->options.loss.blank ? 0 : label;
    }
    if (!strstr(p->op, "cross_entropy") && strcmp(p->op, "focal") && strcmp(p->op, "hinge"))
        return (double)((k * 5 + 3) % (size_t)(p->shape[0].size[1] + 1));
    return k % 5 == 3 && count > 3 ? -100 : k % 5 == 4 ? -1 : (double)(k * 7 % classes);
}

static void fill(problem *p)
{
    unsigned state = 17;
    int i;
    size_t k;
    for (i = 0; i < p->inputs; ++i) {
        size_t count = count_of(&p->shape[i]);
        p->x[i] = (double *)malloc((count + 1) * sizeof(double));
        for (k = 0; k < count; ++k) {
            double v = 2 * random_value(&state);
            /* away from the corners of relu and the like, and exact in float */
            if (fabs(v) < 0.01) v += 0.02;
            p->x[i][k] = few_bits ? floor(v * 16 + 0.5) / 16 : (double)(float)v;
            if (!ft__rows[ft__op_named(p->op)]->backward && (p->inputs > 1 || !strcmp(p->op, "topk")))
                p->x[i][k] = floor(v + 0.5); /* equal ones */
            if (!strcmp(p->op, "round") && k % 4 == 0) p->x[i][k] = floor(v) + 0.5;
            if (!strcmp(p->op, "log") || !strcmp(p->op, "sqrt")
                || (!strcmp(p->op, "pow") && p->options.unary.exponent != 3)
                || (!strcmp(p->op, "power") && i == 0)) p->x[i][k] = fabs(v);
            if (!strcmp(p->op, "sigmoid_focal") && i == 1) p->x[i][k] = fabs(p->x[i][k]) / 2; /* to 1 */
            if (!strcmp(p->op, "prod") && (k == 3 || k == 5)) p->x[i][k] = 0;
            if (!strcmp(p->op, "where") && i == 0 && k % 3 == 1) p->x[i][k] = 0;
            if (is_norm(p) && i == 4) p->x[i][k] = (double)(float)(fabs(v) + 0.5);
            if (i == p->integer - 1)
                p->x[i][k] = integer_at(p, k, count);
        }
    }
}

static ft__context *contexts[3];

static void check_running(const problem *p, int number, const outcome *out)
{
    size_t channels = (size_t)p->shape[0].size[1], c, n, i;
    size_t plane = p->shape[0].rank == 4 ? (size_t)(p->shape[0].size[2] * p->shape[0].size[3]) : 1;
    double count = (double)plane * p->shape[0].size[0];
    for (c = 0; c < channels; ++c) {
        double sum = 0, squares = 0, mean = p->x[3][c], var = p->x[4][c];
        for (n = 0; n < (size_t)p->shape[0].size[0]; ++n)
            for (i = 0; i < plane; ++i) sum += p->x[0][(n * channels + c) * plane + i];
        for (n = 0; n < (size_t)p->shape[0].size[0]; ++n)
            for (i = 0; i < plane; ++i) {
                double d = p->x[0][(n * channels + c) * plane + i] - sum / count;
                squares += d * d;
            }
        if (p->training) {
            mean = 0.9 * mean + 0.1 * sum / count;
            if (count > 1) var = 0.9 * var + 0.1 * squares / (count - 1);
        }
        CHECK(CLOSE(out->state[0].at[c], mean, 1e-5) && CLOSE(out->state[1].at[c], var, 1e-5),
              "batch_norm, case %d: running statistics of channel %zu", number, c);
    }
}

/* Whether a device computes the operator: one without kernels runs on the processor. */
static bool runs_there(int op)
{
#ifdef FINETUNE_OPENCL
    return on_device && ft__device_rows[op]->forward;
#else
    return on_device && op < 0; /* never */
#endif
}

/* Told that a gradient is fresh, backward writes what it would have added. On the processor only
   operators that say so are told, and parameters are always added to; on a device all are. */
static void check_fresh(ft__context *c, const problem *p, int number, const double *r, int op,
                        const outcome *first)
{
    outcome other = run(c, p, r, op, FRESH);
    int i, values = ft__rows[op]->flags & FT__WRITES_ALL ? p->inputs : 1;
    size_t k;
    for (i = 0; i < (runs_there(op) ? p->inputs : values); ++i)
        for (k = 0; has_gradient(p, i) && k < other.gradient[i].count; ++k) {
            double want = (double)first->gradient[i].at[k] - 0.125 * (double)(k % 7);
            if (CLOSE(other.gradient[i].at[k], want, 1e-5 * (1 + fabs(want)))) continue;
            CHECK(false, "%s, case %d: fresh gradient %d, [%zu] is %.9g, not %.9g", p->op, number,
                  i, k, (double)other.gradient[i].at[k], want);
            break;
        }
    CHECK(free_outcome(&other, p->inputs), "%s, case %d, fresh: wrote outside", p->op, number);
}

/* The same in every other way in which the operator takes its tensors stored. */
static void check_stored(problem *p, oracle f, int op, int number, const double *r, const double *y)
{
    uint64_t flags = ft__rows[op]->flags;
    int way, i;
    bool some = p->out.rank == 4;
    for (i = 0; i < p->inputs; ++i) some = some || p->shape[i].rank == 4;
    for (way = 1; way < 28; ++way) {
        outcome out;
        if (way & OTHER_ORDER ? !(flags & FT__STRIDED) || way % 4
            : way >= 4 || !some || !(flags & FT__REORDERS || (flags & FT__ANY_LAYOUT && way == 3)))
            continue;
        if (way > 12 && p->shape[0].rank < 3) continue;
        stored_as = way;
        out = run(contexts[1], p, r, op, 0);
        stored_as = 0;
        compare(p, number, "value, stored otherwise", out.y.at, y, count_of(&p->out));
        for (i = 0; i < p->inputs; ++i) {
            char what[50];
            if (!has_gradient(p, i)) continue;
            snprintf(what, sizeof what, "gradient %d, stored otherwise (%d)", i, way);
            compare(p, number, what, out.gradient[i].at, expected_gradient(p, f, r, i),
                    count_of(&p->shape[i]));
        }
        CHECK(free_outcome(&out, p->inputs), "%s, case %d: wrote outside", p->op, number);
    }
}

static void check_case(problem *p, oracle f, int op, int number)
{
    unsigned state = 5;
    size_t outputs, k;
    double *y, *r;
    outcome first, other;
    ft__node node;
    ft__tensor input[MOST_INPUTS];
    int i;
    memset(&node, 0, sizeof node);
    memset(input, 0, sizeof input);
    node.op = op;
    node.name = (char *)(uintptr_t)p->op;
    node.options = p->options;
    for (i = 0; i < p->inputs; ++i) {
        input[i].shape = p->shape[i];
        input[i].type = i == p->integer - 1 ? FT_I32 : FT_F32;
    }
    ft__rows[op]->shape(contexts[0], &node, input, p->inputs, &p->out);
    CHECK(contexts[0]->status == FT_OK, "%s, case %d: %s", p->op, number, contexts[0]->text);
    if (contexts[0]->status != FT_OK) {
        contexts[0]->status = FT_OK;
        return;
    }
    fill(p);
    outputs = count_of(&p->out);
    y = (double *)malloc(outputs * sizeof *y);
    r = (double *)malloc(outputs * sizeof *r);
    for (k = 0; k < outputs; ++k) {
        double v = random_value(&state);
        r[k] = few_bits ? floor(v * 16 + 0.5) / 16 : (double)(float)v;
    }
    f(p, y);
    first = run(contexts[0], p, r, op, 0);
    compare(p, number, "value", first.y.at, y, outputs);
    check_gradients(contexts[0], p, f, op, number, r, &first);
    if (!briefly) check_stored(p, f, op, number, r, y);
    if (is_norm(p)) check_running(p, number, &first);
    if (((ft__rows[op]->flags & FT__WRITES) || runs_there(op)) && !briefly) {
        check_fresh(contexts[0], p, number, r, op, &first);
        if (ft__rows[op]->flags & FT__WRITES_ALL) check_fresh(contexts[2], p, number, r, op, &first);
    }
    for (i = 1; !briefly && i < 3; ++i) {
        int g;
        other = run(contexts[i], p, r, op, 0);
        CHECK(!memcmp(other.y.at, first.y.at, outputs * sizeof(float)),
              "%s, case %d: other values with more threads", p->op, number);
        for (g = 0; g < p->inputs; ++g)
            CHECK(!memcmp(other.gradient[g].at, first.gradient[g].at,
                          first.gradient[g].count * sizeof(float)),
                  "%s, case %d: another gradient %d with more threads", p->op, number, g);
        CHECK(free_outcome(&other, p->inputs), "%s, case %d: wrote outside", p->op, number);
    }
    CHECK(free_outcome(&first, p->inputs), "%s, case %d: wrote outside a buffer or changed an input",
          p->op, number);
    for (i = 0; i < p->inputs; ++i) free(p->x[i]);
    free(y);
    free(r);
}

/* ---- The cases ---- */

static const char *only_op;
static int only_case = -1, numbers[FT__OP_COUNT];
static int only_form; /* those that a device's form of products is made for, of conv2d and linear */
enum { ALL_FORMS, FOURS, ONE_OF_FOURS, WINOGRAD };

/* Channels and outputs in whole fours, or one of those; or 3 x 3 with a stride of 1. */
static bool suits_form(const problem *p)
{
    const ft_conv2d_options *o = &p->options.conv2d;
    const int *w = p->shape[1].size;
    if (only_form == ALL_FORMS) return true;
    if (only_form == ONE_OF_FOURS) return w[0] == 24 && w[3] == 2;
    if (only_form == FOURS) return w[1] % 4 == 0 && w[0] / or_default(o->groups, 1) % 4 == 0;
    return w[2] == 3 && w[3] == 3 && o->stride[0] < 2 && o->dilation[0] < 2 && o->groups < 2;
}

static void add_case(problem p, const char *name, oracle f)
{
    int op;
    for (op = FT__OP_COUNT - 1; op > 0 && strcmp(ft__rows[op]->name, name) != 0; --op) {}
    CHECK(op > 0, "%s is an operator", name);
    if (lists) return;
    numbers[op] += 1;
    if (only_op && strcmp(only_op, name) != 0) return;
    if ((only_case >= 0 && only_case != numbers[op]) || !suits_form(&p)) return;
    p.op = ft__rows[op]->name;
    check_case(&p, f, op, numbers[op]);
}

static void print_list(const int *numbers_of, int count)
{
    int i;
    for (i = 0; i < count; ++i) printf("%s%d", i ? ", " : "[", numbers_of[i]);
    printf("]");
}

/* A line of JSON: what make_cases.py needs to know of a case. */
static void print_case(const problem *p, int op, const char *pytorch)
{
    const ft__field *field;
    int i;
    printf("{\"op\": \"%s\", \"pytorch\": \"%s\", \"training\": %s, \"shapes\": [", ft__rows[op]->name,
           pytorch, p->training ? "true" : "false");
    for (i = 0; i < p->inputs; ++i) {
        if (i) printf(", ");
        print_list(p->shape[i].size, p->shape[i].rank);
    }
    printf("], \"options\": {");
    for (field = ft__rows[op]->fields; field->name; ++field) {
        const char *at = (const char *)&p->options + field->offset;
        printf("%s\"%s\": [", field == ft__rows[op]->fields ? "" : ", ", field->name);
        for (i = 0; i < field->count; ++i) {
            if (i) printf(", ");
            if (field->kind == 'f') printf("%.9g", (double)((const float *)(const void *)at)[i]);
            else printf("%d", field->kind == 'i' ? ((const int *)(const void *)at)[i] : ((const bool *)at)[i]);
        }
        printf("]");
    }
    printf("}}\n");
}

/* The same, of which golden/make_cases.py makes a golden too. `pytorch` is the operator in Python: of
   x, the inputs, and o, the options by the names that they have in files. */
static void add_torch_case(problem p, const char *name, oracle f, const char *pytorch)
{
    if (lists) print_case(&p, ft__op_named(name), pytorch);
    else add_case(p, name, f);
}

static problem with(int inputs, ft_shape a, ft_shape b, ft_shape c)
{
    problem p;
    memset(&p, 0, sizeof p);
    p.inputs = inputs;
    p.shape[0] = a;
    p.shape[1] = b;
    p.shape[2] = c;
    return p;
}

static void conv_case(ft_shape x, ft_shape w, bool bias, ft_conv2d_options o)
{
    problem p = with(bias ? 3 : 2, x, w, shape1(w.size[0]));
    p.options.conv2d = o;
    add_case(p, "conv2d", oracle_conv2d);
}

static void strided_cases(void)
{
    ft_conv2d_options o = {.kernel = {0}};
    int i;
    /* dW by channels, in more than one chunk of pixels, piece and panel; no weight is so large that
       its gradient is not compared */
    o.stride[0] = 2;
    o.padding[0] = 1;
    conv_case(shape4(3, 33, 27, 28), shape4(18, 33, 3, 3), true, o);
    conv_case(shape4(2, 10, 9, 8), shape4(66, 10, 3, 3), false, o);
    for (i = 0; i < 2; ++i) { /* a stride: phases of dx with many taps, one, none, or no pixel */
        memset(&o, 0, sizeof o);
        o.groups = 1 + i;
        o.stride[0] = 2;
        o.padding[0] = 1;
        conv_case(shape4(3, 34, 7, 8), shape4(36, 34 >> i, 3, 3), false, o);
        conv_case(shape4(2, 18, 1, 9), shape4(22, 18 >> i, 3, 3), true, o);
        conv_case(shape4(2, 18, 6, 5), shape4(22, 18 >> i, 1, 1), false, o);
        o.padding[0] = 2;
        conv_case(shape4(2, 16, 9, 6), shape4(14, 16 >> i, 5, 5), true, o); /* 25 taps */
        o.dilation[0] = 2;
        conv_case(shape4(2, 18, 9, 8), shape4(34, 18 >> i, 3, 3), true, o);
        o.dilation[0] = 3;
        o.stride[1] = 4;
        conv_case(shape4(2, 18, 9, 8), shape4(34, 18 >> i, 3, 2), true, o);
        o.stride[0] = 1 << 20;
        conv_case(shape4(2, 18, 9, 8), shape4(34, 18 >> i, 3, 2), true, o);
    }
}

static void conv_cases(void)
{
    ft_conv2d_options o = {.kernel = {0}};
    static const int sizes[] = {1, 3, 17};
    int i, j;
    for (i = 0; i < 3; ++i) /* channels of 1, 3, 17 both ways */
        for (j = 0; j < 3; ++j)
            conv_case(shape4(2, sizes[i], 5, 6), shape4(sizes[j], sizes[i], 3, 3), j != 1, o);
    conv_case(shape4(1, 64, 4, 4), shape4(17, 64, 1, 1), true, o);
    conv_case(shape4(3, 3, 1, 1), shape4(2, 3, 1, 1), true, o);
    conv_case(shape4(1, 24, 3, 4), shape4(48, 24, 1, 1), false, o); /* dW of factors in place, */
    conv_case(shape4(2, 8, 16, 17), shape4(16, 8, 1, 1), true, o);  /* in more than one go */
    conv_case(shape4(1, 2, 40, 71), shape4(3, 2, 3, 3), false, o);
    o.padding[0] = 1;
    conv_case(shape4(2, 3, 7, 9), shape4(4, 3, 3, 3), true, o);
    o.stride[0] = 2;
    conv_case(shape4(2, 3, 7, 10), shape4(4, 3, 3, 3), true, o);
    o.stride[1] = 3;
    o.padding[1] = 2;
    o.padding[3] = 1;
    conv_case(shape4(2, 3, 8, 9), shape4(4, 3, 2, 5), false, o);
    memset(&o, 0, sizeof o);
    o.dilation[0] = 2;
    o.dilation[1] = 3;
    conv_case(shape4(1, 2, 9, 11), shape4(3, 2, 3, 3), true, o);
    memset(&o, 0, sizeof o);
    o.groups = 3;
    conv_case(shape4(2, 6, 6, 5), shape4(9, 2, 3, 3), true, o);
    conv_case(shape4(2, 3, 6, 5), shape4(3, 1, 3, 3), true, o);
    conv_case(shape4(2, 3, 6, 5), shape4(6, 1, 3, 3), false, o);
    o.stride[0] = 2;
    o.padding[0] = 1;
    conv_case(shape4(3, 3, 9, 8), shape4(3, 1, 3, 3), true, o);
    for (i = 8; i <= 24; i += 8) { /* depthwise: channels of one vector and more, of each width */
        memset(&o, 0, sizeof o);
        o.groups = i;
        o.padding[0] = 1;
        conv_case(shape4(1, i, 6, 7), shape4(i, 1, 3, 3), true, o);
        o.stride[0] = 2;
        conv_case(shape4(2, i, 5, 9), shape4(i, 1, 3, 3), false, o);
        o.padding[0] = 3; /* places that no tap reaches, and pictures without a whole kernel */
        conv_case(shape4(2, i, 2, 4), shape4(i, 1, 3, 3), true, o);
        o.stride[0] = 4;
        conv_case(shape4(1, i, 9, 11), shape4(i, 1, 3, 3), false, o);
        o.stride[0] = 1;
        o.dilation[0] = 2;
        conv_case(shape4(2, i, 5, 7), shape4(i, 1, 3, 3), false, o);
    }
    for (i = 0; i < 2; ++i) { /* small pictures, most of the kernel outside: many, and few */
        int batch = i ? 2 : 9;
        memset(&o, 0, sizeof o);
        o.padding[0] = 1;
        conv_case(shape4(batch, 23, 1, 1), shape4(22, 23, 3, 3), false, o);
        o.padding[0] = 2;
        conv_case(shape4(batch, 13, 2, 2), shape4(14, 13, 3, 5), true, o);
        conv_case(shape4(batch, 17, 1, 3), shape4(33, 17, 1, 5), true, o);
        conv_case(shape4(batch, 14, 2, 3), shape4(13, 14, 3, 5), false, o); /* places without any */
        o.dilation[0] = 2;
        conv_case(shape4(batch, 13, 3, 6), shape4(13, 13, 3, 5), true, o);
        o.dilation[0] = 1;
        o.stride[0] = 2;
        conv_case(shape4(batch, 13, 3, 2), shape4(13, 13, 3, 5), true, o);
    }
    memset(&o, 0, sizeof o);
    o.padding[1] = o.padding[3] = 1; /* kernels so deep that a row of them is several sums */
    conv_case(shape4(9, 600, 1, 2), shape4(22, 600, 1, 3), true, o);
    conv_case(shape4(9, 22, 1, 2), shape4(600, 22, 1, 3), true, o);
    for (i = 5; i < 9; ++i) { /* SAME at even and odd sizes */
        memset(&o, 0, sizeof o);
        o.same = true;
        o.stride[0] = 1 + i % 2;
        conv_case(shape4(2, 2, i, i + 2), shape4(3, 2, 3, 3), true, o);
        o.stride[0] = 2;
        o.groups = 2;
        conv_case(shape4(2, 2, i, i + 1), shape4(2, 1, 3, 3), false, o);
    }
    strided_cases();
    memset(&o, 0, sizeof o); /* channels in whole fours; more columns, rows, depth than a tile */
    conv_case(shape4(1, 4, 2, 3), shape4(132, 4, 1, 2), true, o);
    o.padding[0] = 1;
    conv_case(shape4(1, 4, 12, 11), shape4(4, 4, 3, 3), true, o);
    conv_case(shape4(2, 20, 3, 2), shape4(8, 20, 3, 3), false, o);
    o.groups = 2;
    o.stride[0] = 2;
    conv_case(shape4(3, 8, 6, 7), shape4(24, 4, 3, 2), true, o);
}

static void layer_cases(void)
{
    static const int sizes[] = {1, 3, 17, 64};
    problem p;
    int i;
    for (i = 0; i < 4; ++i) {
        p = with(3, shape2(5, sizes[i]), shape2(sizes[3 - i], sizes[i]), shape1(sizes[3 - i]));
        add_case(p, "linear", oracle_linear);
        p = with(2, shape2(sizes[i], 7), shape2(3, 7), shape1(0));
        add_case(p, "linear", oracle_linear);
    }
    p = with(3, shape4(2, 3, 2, 9), shape2(5, 9), shape1(5));
    add_case(p, "linear", oracle_linear);
    for (i = 1; i < 18; i += 8) { /* one row, alone or after tiles, and columns of every tile */
        p = with(3, shape2(i, 20), shape2(72, 20), shape1(72));
        add_case(p, "linear", oracle_linear);
    }
    p = with(3, shape2(131, 20), shape2(12, 20), shape1(12)); /* fours, larger than tiles of 128 */
    add_case(p, "linear", oracle_linear);
    p = with(2, shape2(3, 36), shape2(132, 36), shape1(0));
    add_case(p, "linear", oracle_linear);
    p = with(3, shape2(40, 23), shape2(83, 23), shape1(83)); /* few rows, but more than a panel */
    add_case(p, "linear", oracle_linear);
    for (i = 1; i < 68; i += 11) { /* dx by panels, packed on the way: whole ones and a part */
        p = with(3, shape2(i, 83), shape2(70, 83), shape1(70));
        add_case(p, "linear", oracle_linear);
    }
    for (i = 0; i < 6; ++i) {
        int channels = i < 2 ? 3 : i < 4 ? 17 : 59; /* of two vectors of each kind, one, and less */
        p = with(5, i % 2 ? shape2(8, channels) : shape4(3, channels, 4, 3), shape1(channels),
                 shape1(channels));
        p.shape[3] = p.shape[4] = shape1(channels);
        p.training = true;
        add_case(p, "batch_norm", oracle_batch_norm);
        p.training = false;
        add_case(p, "batch_norm", oracle_batch_norm);
    }
    for (i = 0; i < 2; ++i) { /* three blocks of rows, whose statistics are combined */
        int channels = i ? 600 : 3;
        p = with(5, shape2(i ? 33 : 5500, channels), shape1(channels), shape1(channels));
        p.shape[3] = p.shape[4] = shape1(channels);
        p.training = true;
        add_case(p, "batch_norm", oracle_batch_norm);
    }
}

static void conv1d_case(ft_shape x, ft_shape w, bool bias, int stride, int before, int after)
{
    problem p = with(bias ? 3 : 2, x, w, shape1(w.size[0]));
    p.options.conv2d.kernel[0] = p.options.conv2d.stride[0] = p.options.conv2d.dilation[0] = 1;
    p.options.conv2d.kernel[1] = w.size[2];
    p.options.conv2d.stride[1] = stride;
    p.options.conv2d.dilation[1] = after == 7 ? 2 : 1;
    p.options.conv2d.padding[1] = before;
    p.options.conv2d.padding[3] = after;
    p.options.conv2d.groups = x.size[1] / w.size[1];
    p.options.conv2d.same = before < 0;
    if (before < 0) p.options.conv2d.padding[1] = p.options.conv2d.padding[3] = 0;
    add_case(p, "conv1d", oracle_conv1d);
}

static void group_norm_case(ft_shape x, int groups, float eps, bool affine)
{
    problem p = with(affine ? 3 : 1, x, shape1(affine ? x.size[1] : 0), shape1(affine ? x.size[1] : 0));
    p.options.group_norm.groups = groups;
    p.options.group_norm.eps = eps;
    add_torch_case(p, "group_norm", oracle_group_norm,
                   "F.group_norm(x[0], o['groups'] or 32, *x[1:], eps=o['eps'] or 1e-5)");
}

/* Sizes of a head: D of q and k, E of v; lengths: 0 none, 1 of all, 2 of keys only, 3 positions in
   several documents. */
static void attention_case(int n, int t, int s, int heads, int some, int d, int e, bool causal,
                           int lengths)
{
    problem p = with(lengths ? 4 : 3, shape3(n, t, heads * d), shape3(n, s, some * d),
                     shape3(n, s, some * e));
    p.shape[3] = lengths == 3 ? shape2(n, t) : shape1(lengths ? n : 0);
    p.integer = lengths ? 4 : 0;
    p.options.attention.heads = heads;
    p.options.attention.key_value_heads = some;
    p.options.attention.causal = causal;
    p.options.attention.all_queries = lengths == 2;
    p.options.attention.scale = lengths == 3 && d == 2 ? 0.5f : d == 3 ? 0.75f : 0;
    add_case(p, "attention", oracle_attention);
}

/* With a share of the softmax dropped in training, and not without. */
static void dropped_attention_case(int n, int t, int s, int heads, bool causal, bool training)
{
    problem p = with(3, shape3(n, t, heads * 4), shape3(n, s, heads * 4), shape3(n, s, heads * 3));
    p.options.attention.heads = heads;
    p.options.attention.causal = causal;
    p.options.attention.dropout = 0.3f;
    p.training = training;
    if (on_device && training) return; /* left to the processor there */
    add_case(p, "attention", oracle_attention);
}

static void packed_attention_case(int n, int t, int heads, int some, int d, bool causal, int lengths)
{
    problem p = with(lengths ? 2 : 1, shape3(n, t, (heads + 2 * some) * d),
                     lengths == 3 ? shape2(n, t) : shape1(lengths ? n : 0), shape1(0));
    p.integer = lengths ? 2 : 0;
    p.options.attention.heads = heads;
    p.options.attention.key_value_heads = some;
    p.options.attention.causal = causal;
    add_case(p, "attention", oracle_packed_attention);
}

static void rotary_case(ft_shape x, bool positions, ft_rotary_options o)
{
    problem p = with(positions ? 2 : 1, x, shape2(positions ? x.size[0] : 0, x.size[1]), shape1(0));
    p.integer = positions ? 2 : 0;
    p.options.rotary = o;
    add_case(p, "rotary", oracle_rotary);
}

static void position_cases(void)
{
    static const int sizes[] = {1, 3, 17, 64};
    problem p;
    int i;
    for (i = 0; i < 4; ++i) {
        ft_rotary_options o = {.heads = 2, .interleaved = i & 1};
        rotary_case(shape3(2, sizes[i], 4 * sizes[3 - i]), i > 1, o);
        o.dimensions = 6;
        o.base = 5e5f;
        o.scaling = i & 2 ? FT_ROTARY_LINEAR : FT_ROTARY_LLAMA3;
        o.factor = 8;
        if (i < 2) o.original_length = 100 + i;
        if (i == 1) o.low_frequency_factor = 2;
        if (i == 1) o.high_frequency_factor = 5;
        rotary_case(shape3(3, sizes[i], 22), i & 2, o);
        p = with(2 + i % 2, shape3(3, sizes[i], sizes[3 - i]), shape2(70, sizes[3 - i]),
                 shape2(3, sizes[i]));
        p.integer = i % 2 ? 3 : 0;
        p.options.add_positions.first = i == 2 ? 5 : 0;
        add_case(p, "add_positions", oracle_add_positions);
    }
    rotary_case(shape3(1, 300, 10), false, (ft_rotary_options){.dimensions = 8});
    rotary_case(shape3(2, 300, 64), false, (ft_rotary_options){0});
}

static void attention_cases(void)
{
    static const int sizes[] = {1, 3, 17, 64};
    int i;
    for (i = 0; i < 4; ++i) {
        attention_case(2, sizes[i], sizes[3 - i], 2, 2, 3, 5, false, 0);
        attention_case(2, 5, 7, 1, 1, sizes[i], sizes[3 - i], i & 1, 0);
        attention_case(4, sizes[i], sizes[i], 2, 1, 4, 4, i & 1, 1); /* lengths 3, 8, .. */
        attention_case(3, sizes[i], 6, 6, 2, 3, 2, i & 1, 2);
    }
    for (i = 0; i < 4; ++i) { /* with enough heads for all threads, and without */
        packed_attention_case(2, sizes[i], 2, 2, 4, false, 0);
        packed_attention_case(1, sizes[i], 1, 1, 6, i & 1, 0);
        packed_attention_case(4, sizes[i], 4, 2, 3, i & 1, 1);
    }
    for (i = 0; i < 4; ++i) { /* several documents in a sample */
        attention_case(2, sizes[i], sizes[i], 2, 1, 3, 5, true, 3);
        packed_attention_case(1, sizes[i], 4, 2, 3, true, 3);
    }
    dropped_attention_case(2, 7, 9, 2, false, true);
    dropped_attention_case(2, 8, 8, 2, true, true);
    dropped_attention_case(1, 5, 5, 2, false, false);
    dropped_attention_case(1, 3, 530, 1, false, true);
    dropped_attention_case(1, 140, 20, 1, false, true);
    attention_case(1, 330, 330, 1, 1, 2, 3, true, 3);
    packed_attention_case(1, 1100, 1, 1, 2, true, 3);
    packed_attention_case(1, 530, 1, 1, 2, true, 0);
    attention_case(3, 9, 9, 4, 2, 8, 8, true, 1);
    attention_case(2, 9, 4, 2, 2, 8, 8, true, 0); /* queries that see no key */
    attention_case(1, 2, 11, 2, 2, 8, 8, true, 0);
    attention_case(1, 140, 130, 1, 1, 2, 3, false, 0);  /* more than a block of queries */
    attention_case(1, 150, 150, 2, 1, 2, 3, true, 0);
    attention_case(1, 3, 530, 1, 1, 2, 3, false, 0);    /* more than a tile of keys */
    attention_case(2, 9, 1030, 1, 1, 2, 1, true, 0);
}

static void sequence_cases(void)
{
    static const int axes[][4] = {{0, 2, 1, 3}, {0, 3, 1, 2}, {0, 1, 3, 2}, {0, 3, 2, 1}};
    static const int sizes[] = {1, 3, 17, 64};
    problem p;
    int i;
    conv1d_case(shape3(2, 3, 9), shape3(4, 3, 3), true, 1, 0, 0);
    conv1d_case(shape3(1, 17, 5), shape3(3, 17, 1), false, 1, 0, 0);
    conv1d_case(shape3(3, 1, 12), shape3(1, 1, 5), true, 2, 2, 1);
    conv1d_case(shape3(2, 6, 11), shape3(9, 2, 3), true, 1, 4, 7);
    conv1d_case(shape3(2, 5, 10), shape3(5, 1, 3), true, 1, 2, 0);
    conv1d_case(shape3(2, 3, 8), shape3(64, 3, 4), false, 3, -1, -1);
    for (i = 0; i < 4; ++i) {
        p = with(3, i % 2 ? shape3(2, 3, sizes[i]) : shape2(37, sizes[3 - i]),
                 shape1(sizes[i % 2 ? i : 3 - i]), shape1(sizes[i % 2 ? i : 3 - i]));
        p.options.layer_norm.eps = 1e-5f;
        add_case(p, "layer_norm", oracle_layer_norm);
        p = with(2, i % 2 ? shape3(2, 3, sizes[i]) : shape2(37, sizes[3 - i]),
                 shape1(sizes[i % 2 ? i : 3 - i]), shape1(0));
        p.options.rms_norm.eps = 1e-5f;
        add_case(p, "rms_norm", oracle_rms_norm);
        p = with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0));
        memcpy(p.options.permute.axes, axes[i], sizeof axes[i]);
        add_case(p, "permute", oracle_permute);
        p = with(2, shape3(3, 5, 7), shape3(3, 7, 4), shape1(0));
        p.options.matmul.transpose_a = i & 1;
        p.options.matmul.transpose_b = i & 2;
        if (i & 1) p.shape[0] = shape3(3, 7, 5);
        if (i & 2) p.shape[1] = shape3(3, 4, 7);
        add_case(p, "matmul", oracle_matmul);
        p.shape[0] = i & 1 ? shape4(2, 3, 1, 17) : shape4(2, 3, 17, 1);
        p.shape[1] = i & 2 ? shape4(2, 3, 6, 1) : shape4(2, 3, 1, 6);
        add_case(p, "matmul", oracle_matmul);
    }
    group_norm_case(shape4(2, 6, 3, 5), 3, 0, true);
    group_norm_case(shape3(3, 4, 17), 2, 0.5f, true);
    group_norm_case(shape2(5, 12), 4, 0, true);
    group_norm_case(shape4(1, 64, 4, 3), 0, 0, false);
    group_norm_case(shape4(2, 17, 7, 9), 17, 0, true); /* each channel by itself ... */
    group_norm_case(shape3(1, 3, 300), 1, 0, false);   /* ... and all together */
    p = with(3, shape4(2, 3, 4, 6), shape1(6), shape1(6));
    p.options.layer_norm.eps = 0.5f;
    add_case(p, "layer_norm", oracle_layer_norm);
    p = with(2, shape3(3, 5, 24), shape1(8), shape1(0)); /* three heads; several blocks of rows */
    p.options.rms_norm.eps = 0.5f;
    add_case(p, "rms_norm", oracle_rms_norm);
    p = with(2, shape2(150, 75), shape1(75), shape1(0));
    p.options.rms_norm.eps = 1e-5f;
    add_case(p, "rms_norm", oracle_rms_norm);
    p = with(3, shape2(150, 75), shape1(75), shape1(75)); /* several blocks of rows, long rows */
    p.options.layer_norm.eps = 1e-5f;
    add_case(p, "layer_norm", oracle_layer_norm);
    p = with(1, shape3(3, 4, 17), shape1(0), shape1(0));
    p.options.permute.axes[1] = 2;
    p.options.permute.axes[2] = 1;
    add_case(p, "permute", oracle_permute);
    add_case(with(2, shape3(1, 300, 3), shape3(1, 3, 64), shape1(0)), "matmul", oracle_matmul);
    for (i = 1; i < 3; ++i) { /* K rows of each sample; then element by element */
        p = with(2, shape3(3, 5, 4), i == 1 ? shape2(3, 17) : shape3(3, 5, 9), shape1(0));
        p.integer = p.inputs;
        p.options.concat.axis = i;
        add_case(p, "gather", oracle_gather);
    }
}

static void transposed_case(ft_shape x, ft_shape w, bool bias, ft_conv_transpose2d_options o)
{
    int groups = or_default(o.groups, 1);
    problem p = with(bias ? 3 : 2, x, w, shape1(w.size[1] * groups));
    p.options.conv_transpose2d = o;
    if (o.same || o.padding[2]) add_case(p, "conv_transpose2d", oracle_conv_transpose2d);
    else add_torch_case(p, "conv_transpose2d", oracle_conv_transpose2d,
                        "F.conv_transpose2d(x[0], x[1], x[2] if len(x) > 2 else None, [max(o['stride'][0], 1), o['stride'][1]"
                        " or max(o['stride'][0], 1)], (o['padding'][0], o['padding'][1] or o['padding'][0]),"
                        " o['output_padding'], o['groups'] or 1, [max(o['dilation'][0], 1), o['dilation'][1] or"
                        " max(o['dilation'][0], 1)])");
}

static void transposed_cases(void)
{
    ft_conv_transpose2d_options o = {.kernel = {0}};
    transposed_case(shape4(2, 3, 5, 4), shape4(3, 17, 3, 3), true, o);
    transposed_case(shape4(1, 16, 2, 4), shape4(16, 16, 3, 3), true,
                    (ft_conv_transpose2d_options){.padding = {1}}); /* Winograd's form */
    transposed_case(shape4(1, 17, 3, 2), shape4(17, 20, 2, 2), true, (ft_conv_transpose2d_options){.stride = {2}});
    transposed_case(shape4(1, 3, 4, 5), shape4(3, 4, 1, 1), false, (ft_conv_transpose2d_options){.stride = {3}});
    transposed_case(shape4(2, 6, 4, 3), shape4(6, 2, 3, 3), true, (ft_conv_transpose2d_options){
        .stride = {2}, .padding = {1}, .output_padding = {1, 1}, .groups = 3});
    transposed_case(shape4(2, 8, 4, 3), shape4(8, 1, 3, 3), true, (ft_conv_transpose2d_options){
        .stride = {2}, .padding = {1}, .output_padding = {1, 1}, .groups = 8}); /* depthwise */
    o.dilation[0] = 2;
    o.stride[0] = 3;
    o.stride[1] = 1;
    transposed_case(shape4(1, 3, 4, 5), shape4(3, 4, 3, 2), true, o);
    o.padding[0] = 2;
    o.padding[2] = 1;
    o.padding[3] = 2;
    o.output_padding[0] = 2;
    o.stride[1] = 3;
    transposed_case(shape4(1, 3, 4, 5), shape4(3, 4, 3, 2), true, o);
    memset(&o, 0, sizeof o);
    o.same = true;
    transposed_case(shape4(2, 3, 4, 5), shape4(3, 4, 3, 3), true, o);
    o.stride[0] = 2;
    transposed_case(shape4(2, 3, 4, 5), shape4(3, 4, 3, 4), true, o);
    o.stride[1] = 3;
    transposed_case(shape4(2, 3, 4, 5), shape4(3, 4, 1, 2), true, o);
}

static void resize_case(ft_shape x, ft_resize_options o, const char *pytorch)
{
    problem p = with(1, x, shape1(0), shape1(0));
    p.options.resize = o;
    if (pytorch) add_torch_case(p, "resize", oracle_resize, pytorch);
    else add_case(p, "resize", oracle_resize);
}

static void resize_cases(void)
{
    static const int sizes[][2] = {{8, 9}, {3, 17}, {4, 5}, {1, 1}, {6, 3}};
    int i, k;
    for (i = 0; i < 5; ++i) {
        ft_resize_options o = {.size = {sizes[i][0], sizes[i][1]}};
        resize_case(shape4(2, 3, 4, 5), o, "F.interpolate(x[0], o['size'])");
        o.mode = FT_RESIZE_LINEAR;
        resize_case(shape4(2, 3, 4, 5), o, "F.interpolate(x[0], o['size'], mode='bilinear')");
        o.coordinates = FT_RESIZE_ALIGN_CORNERS;
        resize_case(shape4(1, 17, 3, 4), o,
                    "F.interpolate(x[0], o['size'], mode='bilinear', align_corners=True)");
        o.coordinates = FT_RESIZE_ASYMMETRIC;
        resize_case(shape4(2, 3, 4, 5), o, NULL);
        o.coordinates = FT_RESIZE_PYTORCH_HALF_PIXEL;
        resize_case(shape4(2, 3, 4, 5), o, NULL);
        o.mode = FT_RESIZE_NEAREST;
        for (k = 0; k < 16; ++k) {
            o.coordinates = (ft_resize_coordinates)(1 + k / 4);
            o.rounding = (ft_resize_rounding)(k % 4);
            resize_case(shape4(1, 2, 4, 5), o, k == 3 ? "F.interpolate(x[0], o['size'], mode='nearest-exact')"
                                                      : NULL);
        }
    }
    resize_case(shape4(1, 3, 17, 1), (ft_resize_options){.size = {64, 1}, .mode = FT_RESIZE_LINEAR}, NULL);
    resize_case(shape4(1, 3, 6, 7), (ft_resize_options){.scale = {0.6f, 1.7f}},
                "F.interpolate(x[0], scale_factor=(0.6, 1.7))");
    resize_case(shape4(1, 3, 6, 7), (ft_resize_options){.scale = {1.7f}, .mode = FT_RESIZE_LINEAR},
                "F.interpolate(x[0], scale_factor=1.7, mode='bilinear')");
    resize_case(shape4(1, 3, 6, 7), (ft_resize_options){.size = {9, 3}, .scale = {1.6f, 0.5f}, .mode = FT_RESIZE_LINEAR},
                NULL);
    resize_case(shape3(2, 3, 17), (ft_resize_options){.size = {64}, .mode = FT_RESIZE_LINEAR},
                "F.interpolate(x[0], o['size'][0], mode='linear')");
    resize_case(shape3(2, 3, 17), (ft_resize_options){.scale = {2}}, "F.interpolate(x[0], scale_factor=2)");
}

static void pool_case(const char *name, ft_shape x, int kernel, int stride, int padding, int how)
{
    problem p = with(1, x, shape1(0), shape1(0));
    p.options.pool2d.kernel[0] = kernel;
    p.options.pool2d.stride[0] = stride;
    p.options.pool2d.padding[0] = padding;
    p.options.pool2d.ceil_mode = how & 1;
    p.options.pool2d.exclude_padding = how & 2;
    add_case(p, name, oracle_pool);
}

static void pool_cases(void)
{
    static const char *const names[] = {"max_pool2d", "avg_pool2d"};
    int n, how;
    for (n = 0; n < 2; ++n)
        for (how = 0; how < 4; ++how) {
            pool_case(names[n], shape4(2, 3, 8, 7), 2, 0, 0, how);
            pool_case(names[n], shape4(1, 2, 9, 10), 3, 2, 1, how);
            pool_case(names[n], shape4(2, 1, 3, 3), 3, 1, 0, how);
            pool_case(names[n], shape4(1, 17, 6, 5), 2, 3, 1, how);
        }
    add_case(with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0)), "global_avg_pool", oracle_global);
    add_case(with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0)), "global_max_pool", oracle_global);
    add_case(with(1, shape4(3, 17, 1, 1), shape1(0), shape1(0)), "global_avg_pool", oracle_global);
}

static void elementwise_cases(void)
{
    problem p;
    size_t n;
    int op;
    for (op = 0; op < FT__OP_COUNT; ++op) {
        const char *name = ft__rows[op]->name;
        char pytorch[80];
        if (!ft__rows[op]->activation) continue;
        snprintf(pytorch, sizeof pytorch, "F.%s(x[0])", name);
        add_torch_case(with(1, shape2(3, 17), shape1(0), shape1(0)), name, oracle_activation, pytorch);
        add_case(with(1, shape4(1, 3, 17, 64), shape1(0), shape1(0)), name, oracle_activation);
    }
    p = with(1, shape2(3, 17), shape1(0), shape1(0));
    p.options.activation.slope = 0.25f;
    add_case(p, "leaky_relu", oracle_activation);
    p.options.activation.alpha = 0.5f;
    add_case(p, "elu", oracle_activation);
    p.options.activation.tanh_approximation = true;
    add_case(p, "gelu", oracle_activation);
    p = with(1, shape2(17, 17), shape1(0), shape1(0));
    p.options.activation.alpha = 0.5f;
    add_case(p, "celu", oracle_activation);
    p.options.activation.lambda = 0.75f;
    add_case(p, "softshrink", oracle_activation);
    add_case(p, "hardtanh", oracle_activation);
    p.options.activation.min = -0.25f;
    p.options.activation.max = 1.5f;
    add_case(p, "hardtanh", oracle_activation);
    add_case(p, "threshold", oracle_activation);
    p.options.activation.threshold = -0.5f;
    p.options.activation.value = 2;
    add_case(p, "threshold", oracle_activation);
    add_case(with(1, shape2(3, 34), shape1(0), shape1(0)), "glu", oracle_glu);
    add_case(with(1, shape4(2, 3, 1, 64), shape1(0), shape1(0)), "glu", oracle_glu);
    p = with(1, shape4(3, 6, 1, 17), shape1(0), shape1(0));
    p.options.activation.axis = 1;
    add_case(p, "glu", oracle_glu);
    add_case(with(2, shape2(3, 17), shape1(1), shape1(0)), "prelu", oracle_prelu);
    add_case(with(2, shape2(64, 17), shape1(17), shape1(0)), "prelu", oracle_prelu);
    add_case(with(2, shape4(3, 17, 3, 5), shape1(17), shape1(0)), "prelu", oracle_prelu);
    for (n = 0; n < 3; ++n) {
        const char *name = n == 2 ? "softmin" : n ? "log_softmax" : "softmax";
        add_case(with(1, shape2(3, 17), shape1(0), shape1(0)), name, oracle_softmax);
        add_case(with(1, shape2(64, 3), shape1(0), shape1(0)), name, oracle_softmax);
        add_case(with(1, shape2(3, 75), shape1(0), shape1(0)), name, oracle_softmax);
        p = with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0));
        p.options.activation.axis = 1;
        add_case(p, name, oracle_softmax);
    }
}

/* All but the batch and the channels padded, unequally, as PyTorch's pad does. */
static void bordered_case(ft_shape x, int mode, int more)
{
    static const char *const modes[] = {"constant", "reflect", "replicate", "circular"};
    problem p = with(1, x, shape1(0), shape1(0));
    char pytorch[200];
    int last = x.rank - 1;
    p.options.pad.mode = (ft_pad_mode)mode;
    p.options.pad.before[last] = 4;
    p.options.pad.after[last] = 2;
    if (more) p.options.pad.before[2] = more - 1;
    if (more) p.options.pad.after[2] = more;
    snprintf(pytorch, sizeof pytorch, "F.pad(x[0], [o[k][d] for d in range(x[0].ndim - 1, 1, -1) for k in"
             " ('before', 'after')], '%s')", modes[mode]);
    if (x.rank == 3) add_case(p, "pad", oracle_flat_window);
    else add_torch_case(p, "pad", oracle_window, pytorch);
}

static void tile_case(ft_shape x, int first, int second, int third)
{
    problem p = with(1, x, shape1(0), shape1(0));
    p.options.tile.repeats[1] = first;
    p.options.tile.repeats[2] = second;
    p.options.tile.repeats[3] = third;
    add_torch_case(p, "tile", oracle_tile, "x[0].tile([max(n, 1) for n in o['repeats'][:x[0].ndim]])");
}

static void cumsum_case(ft_shape x, int axis, bool exclusive, bool reverse)
{
    problem p = with(1, x, shape1(0), shape1(0));
    p.options.cumsum.axis = axis;
    p.options.cumsum.exclusive = exclusive;
    p.options.cumsum.reverse = reverse;
    if (exclusive || reverse) add_case(p, "cumsum", oracle_cumsum);
    else add_torch_case(p, "cumsum", oracle_cumsum, "x[0].cumsum(o['axis'] or -1)");
}

static void topk_case(ft_shape x, ft_topk_options o)
{
    problem p = with(1, x, shape1(0), shape1(0));
    p.options.topk = o;
    add_torch_case(p, "topk", oracle_topk, o.drop_axis ? "(x[0].argmin if o['smallest'] else x[0].argmax)(o['axis'] or -1)"
                   : "x[0].topk(o['count'] or 1, o['axis'] or -1, not o['smallest']).indices");
}

static void places_cases(void)
{
    problem p;
    int i;
    tile_case(shape2(3, 17), 4, 0, 0);
    tile_case(shape4(2, 3, 4, 5), 2, 1, 3);
    tile_case(shape4(1, 17, 1, 3), 0, 7, 2);
    for (i = 0; i < 4; ++i) {
        cumsum_case(shape2(3, 17), 0, i & 1, i & 2);
        cumsum_case(shape4(2, 3, 4, 5), 1, i & 1, i & 2);
        cumsum_case(shape3(1, 100, 3), -2, i & 1, i & 2);
    }
    for (i = 0; i < 2; ++i) {
        topk_case(shape2(3, 17), (ft_topk_options){.smallest = i});
        topk_case(shape2(64, 3), (ft_topk_options){.drop_axis = true, .smallest = i});
        topk_case(shape4(2, 5, 4, 3), (ft_topk_options){.count = 3, .axis = 1, .smallest = i});
        topk_case(shape4(2, 3, 4, 5), (ft_topk_options){.drop_axis = true, .axis = -2, .smallest = i});
        topk_case(shape3(1, 64, 2), (ft_topk_options){.count = 64, .axis = 1, .smallest = i});
    }
    for (i = 1; !on_device && i < 3; ++i) { /* one list for all samples: left to the processor there */
        p = with(2, shape3(3, 5, 4), shape1(i == 1 ? 17 : 3), shape1(0));
        p.integer = p.inputs;
        p.options.concat.axis = i;
        add_case(p, "gather", oracle_gather_list);
    }
}

static void shape_cases(void)
{
    int i;
    problem p = with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0));
    places_cases();
    add_case(p, "flatten", oracle_copy);
    p.options.reshape.rank = 2;
    p.options.reshape.size[0] = 6;
    p.options.reshape.size[1] = -1;
    add_case(p, "reshape", oracle_copy);
    p = with(3, shape4(2, 3, 2, 5), shape4(2, 1, 2, 5), shape4(2, 4, 2, 5));
    p.options.concat.axis = 1;
    add_case(p, "concat", oracle_concat);
    p = with(1, shape4(2, 3, 4, 5), shape1(0), shape1(0));
    p.options.pad.before[1] = 2;
    p.options.pad.after[2] = 1;
    p.options.pad.before[3] = 3;
    add_case(p, "pad", oracle_window);
    p.options.pad.value = -1.5f;
    if (!on_device) add_case(p, "pad", oracle_window);
    p.options.pad.value = 0;
    for (i = FT_PAD_REFLECT; !on_device && i <= FT_PAD_CIRCULAR; ++i) { /* left to the processor there */
        p.options.pad.mode = (ft_pad_mode)i;
        add_case(p, "pad", oracle_window);
        bordered_case(shape3(3, 4, 17), i, 0);
        bordered_case(shape4(1, 17, 4, 5), i, 3);
    }
    p = with(1, shape4(2, 5, 7, 8), shape1(0), shape1(0));
    p.options.slice.step[2] = p.options.slice.step[3] = 2;
    add_case(p, "slice", oracle_window);
    p.options.slice.start[1] = 1;
    p.options.slice.stop[1] = 4;
    p.options.slice.start[3] = 2;
    p.options.slice.step[3] = 3;
    add_case(p, "slice", oracle_window);
}

static void add_pair_case(problem p, const char *name, bool golden)
{
    const char *pytorch = !strcmp(name, "power") ? "torch.pow(x[0], x[1])"
        : !strcmp(name, "expand_as") ? "torch.broadcast_tensors(x[0], x[1])[0]" : NULL;
    if (golden && pytorch) add_torch_case(p, name, oracle_pair, pytorch);
    else add_case(p, name, oracle_pair);
}

/* Shapes of a, b and a third: equal, repeated in b, in a, in both; one number; ranks that differ. */
static void pair_cases(void)
{
    static const char *const names[] = {"add", "mul", "sub", "div", "maximum", "minimum", "equal",
                                        "not_equal", "less", "less_equal", "greater",
                                        "greater_equal", "power", "expand_as"};
    ft_shape shapes[][2] = {{shape4(2, 3, 4, 5), shape4(2, 3, 4, 5)},
                            {shape1(1), shape1(1)},
                            {shape4(2, 3, 4, 5), shape4(1, 3, 1, 1)},
                            {shape4(2, 3, 4, 5), shape2(4, 1)},
                            {shape4(2, 3, 4, 5), shape1(1)},
                            {shape4(2, 17, 3, 1), shape4(2, 17, 1, 1)},
                            {shape2(1, 17), shape2(3, 17)},
                            {shape3(5, 1, 3), shape3(1, 4, 3)},
                            {shape1(1), shape3(3, 2, 17)},
                            {shape2(64, 1), shape1(64)},
                            {shape3(3, 4, 1), shape4(2, 3, 1, 5)},
                            {shape2(3, 700), shape2(3, 1)}};
    size_t n, k;
    for (n = 0; n < sizeof names / sizeof names[0]; ++n)
        for (k = 0; k < sizeof shapes / sizeof shapes[0]; ++k)
            add_pair_case(with(2, shapes[k][0], shapes[k][1], shape1(0)), names[n], k == 3);
    for (k = 0; k < sizeof shapes / sizeof shapes[0]; ++k) {
        add_case(with(3, shapes[k][0], shapes[k][1], shapes[k][0]), "where", oracle_where);
        add_case(with(3, shape1(1), shapes[k][0], shapes[k][1]), "where", oracle_where);
    }
}

static void reduce_case(ft_shape x, int count, int first, int second)
{
    static const char *const names[] = {"mean", "sum", "amax", "amin", "norm", "logsumexp", "prod"};
    problem p = with(1, x, shape1(0), shape1(0));
    int n;
    p.options.reduce.count = count;
    p.options.reduce.axes[0] = first;
    p.options.reduce.axes[1] = second;
    for (n = 0; n < 7; ++n) {
        char pytorch[120];
        if (n == 6 && count_of(&x) > 200) continue; /* products of many numbers */
        if (n > 2 && count_of(&x) > 10000) continue; /* takes long; lines are shared out as for the first three */
        snprintf(pytorch, sizeof pytorch, "torch.%s(x[0], dim=o['axes'][:o['count']]%s)",
                 n == 4 ? "linalg.vector_norm" : names[n], n == 6 ? "[0]" : "");
        p.options.reduce.keep = false;
        if (n > 2 && count == (n == 6 ? 1 : 2)) add_torch_case(p, names[n], oracle_reduce, pytorch);
        else add_case(p, names[n], oracle_reduce);
        p.options.reduce.keep = true;
        add_case(p, names[n], oracle_reduce);
    }
}

static void unary_cases(void)
{
    static const char *const names[] = {"exp", "log", "sqrt", "abs", "neg", "erf", "detach", "floor", "ceil",
                                        "round", "sign", "to_i32"};
    static const char *const pytorch[sizeof names / sizeof names[0]] = {
        [7] = "torch.floor(x[0])", [8] = "torch.ceil(x[0])", [9] = "torch.round(x[0])",
        [10] = "torch.sign(x[0])", [11] = "x[0].to(torch.int32)"};
    static const float exponents[] = {3, 2.5f, -2, 0.5f, 1};
    problem p = with(1, shape2(3, 17), shape1(0), shape1(0));
    size_t n;
    for (n = 0; n < sizeof names / sizeof names[0]; ++n) {
        if (pytorch[n]) add_torch_case(p, names[n], oracle_unary, pytorch[n]);
        else add_case(p, names[n], oracle_unary);
        add_case(with(1, shape4(1, 3, 17, 64), shape1(0), shape1(0)), names[n], oracle_unary);
    }
    p.integer = 1;
    add_torch_case(p, "to_f32", oracle_copy, "x[0].float()");
    p.integer = 0;
    p.options.unary.scale = -0.75f;
    p.options.unary.shift = 0.125f;
    add_case(p, "affine", oracle_unary);
    p.options.unary.min = -0.5f;
    p.options.unary.max = 1;
    add_case(p, "clamp", oracle_unary);
    for (n = 0; n < sizeof exponents / sizeof exponents[0]; ++n) {
        p.options.unary.exponent = exponents[n];
        add_case(p, "pow", oracle_unary);
    }
    reduce_case(shape2(3, 17), 0, 0, 0);
    reduce_case(shape2(64, 3), 1, 0, 0);
    reduce_case(shape2(3, 75), 1, -1, 0);
    reduce_case(shape1(17), 1, 0, 0);
    reduce_case(shape4(2, 3, 4, 5), 0, 0, 0);
    reduce_case(shape4(2, 3, 4, 5), 1, 1, 0);
    reduce_case(shape4(2, 17, 4, 5), 2, 2, -1);
    reduce_case(shape4(2, 3, 4, 1), 2, 0, 2);
    reduce_case(shape3(3, 300, 17), 1, 1, 0);
    reduce_case(shape3(3, 300, 4), 1, 1, 0);
}

/* A loss as it is by default, and with options. */
static void loss_case(problem p, const char *name, oracle f, ft_loss_options o)
{
    add_case(p, name, f);
    p.options.loss = o;
    add_case(p, name, f);
}

static void loss_cases(void)
{
    static const int classes[] = {1, 3, 17, 75};
    problem p;
    int i;
    for (i = 0; i < 4; ++i) {
        p = with(2, shape2(6, classes[i]), shape1(6), shape1(0));
        p.integer = p.inputs;
        loss_case(p, "cross_entropy", oracle_loss, (ft_loss_options){.label_smoothing = 0.1f});
        p = with(2, shape3(3, 4, classes[i]), shape2(3, 4), shape1(0));
        p.integer = p.inputs;
        add_case(p, "cross_entropy", oracle_loss);
        p = with(2, shape2(5, classes[i]), shape2(5, classes[i]), shape1(0));
        add_case(p, "soft_cross_entropy", oracle_loss);
        add_case(p, "binary_cross_entropy", oracle_loss);
        add_case(p, "mse", oracle_loss);
        add_case(p, "l1", oracle_loss);
        loss_case(p, "smooth_l1", oracle_loss, (ft_loss_options){.beta = 0.25f});
        loss_case(p, "huber", oracle_loss, (ft_loss_options){.delta = 0.5f});
        loss_case(p, "sigmoid_focal", oracle_loss, (ft_loss_options){.gamma = 1.5f, .alpha = i & 1 ? -1 : 0.75f});
        p = with(2, i & 1 ? shape3(3, 4, classes[i]) : shape2(6, classes[i]), i & 1 ? shape2(3, 4) : shape1(6),
                 shape1(0));
        p.integer = p.inputs;
        loss_case(p, "focal", oracle_label_loss, (ft_loss_options){.gamma = 1.5f});
        loss_case(p, "hinge", oracle_label_loss, (ft_loss_options){.margin = 0.25f});
    }
    for (i = 3; i < 6; ++i) { /* 3 steps are too few for the labels of the first sample */
        p = with(2, shape3(4, i, 4), shape2(4, 3), shape1(0));
        p.integer = p.inputs;
        p.options.loss.zero_infinity = i == 3;
        p.options.loss.blank = i == 4 ? 3 : 0;
        add_case(p, "ctc_loss", oracle_ctc);
    }
    for (i = 0; i < 4; ++i) {
        p = with(3 + i % 2, i < 2 ? shape2(6, classes[i]) : shape3(3, 5, classes[i]),
                 i < 2 ? shape1(6) : shape2(3, 5), shape2(classes[3 - i] + 1, classes[i]));
        p.shape[3] = shape1(classes[3 - i] + 1);
        p.integer = 2;
        p.options.loss.label_smoothing = i == 2 ? 0.1f : 0;
        add_case(p, "linear_cross_entropy", oracle_linear_cross_entropy);
    }
    p = with(2, shape2(150, 3), shape1(150), shape1(0)); /* more rows than a device's work-group */
    p.integer = p.inputs;
    add_case(p, "cross_entropy", oracle_loss);
    add_case(with(2, shape2(150, 3), shape2(150, 3), shape1(0)), "soft_cross_entropy", oracle_loss);
}

static void recurrent_case(const char *op, int n, int steps, int in, ft__recurrent_options o)
{
    int gates = !strcmp(op, "lstm") ? 4 : !strcmp(op, "gru") ? 3 : 1, d, features;
    problem p;
    memset(&p, 0, sizeof p);
    p.shape[p.inputs++] = shape3(n, steps, in);
    for (d = 0; d < (o.bidirectional ? 2 : 1); ++d) {
        p.shape[p.inputs++] = shape2(gates * o.hidden, in);
        p.shape[p.inputs++] = shape2(gates * o.hidden, o.hidden);
        if (o.no_bias) continue;
        p.shape[p.inputs++] = shape1(gates * o.hidden);
        p.shape[p.inputs++] = shape1(gates * o.hidden);
    }
    features = o.hidden * (o.bidirectional ? 2 : 1);
    if (o.lengths) p.shape[p.inputs++] = shape1(n);
    if (o.lengths) p.integer = p.inputs;
    if (o.initial) p.shape[p.inputs++] = shape2(n, features);
    if (o.initial && gates == 4) p.shape[p.inputs++] = shape2(n, features);
    p.options.recurrent = o;
    p.training = true;
    add_case(p, op, oracle_recurrent);
}

static void recurrent_cases(void)
{
    static const char *const names[] = {"lstm", "gru", "rnn", "gru"}; /* the last: reset_before */
    problem p = with(2, shape2(3, 7), shape2(11, 5), shape1(0));
    int i, how;
    p.integer = 1;
    add_case(p, "embedding", oracle_embedding);
    p = with(2, shape1(9), shape2(4, 17), shape1(0));
    p.integer = 1;
    add_case(p, "embedding", oracle_embedding);
    p = with(2, shape2(3, 90), shape2(13, 2), shape1(0)); /* more places than are summed at once */
    p.integer = 1;
    add_case(p, "embedding", oracle_embedding);
    for (i = 0; i < 3; ++i) {
        static const int lengths[] = {1, 17, 64};
        p = with(1, shape2(3, lengths[i]), shape1(0), shape1(0));
        p.integer = 1;
        p.options.token_counts.words = 5;
        add_case(p, "token_counts", oracle_token_counts);
    }
    for (i = 0; i < 10; ++i) {
        static const ft_step_pooling kinds[] = {FT_POOL_MEAN, FT_POOL_MAX, FT_POOL_LAST, FT_POOL_LAST,
                                                FT_POOL_FIRST};
        p = with(1 + i % 2, shape3(5, 6, 4), shape1(5), shape1(0));
        p.integer = i % 2 ? 2 : 0;
        p.options.step_pool.kind = kinds[i / 2];
        p.options.step_pool.bidirectional = i == 6 || i == 7;
        add_case(p, "step_pool", oracle_step_pool);
    }
    for (i = 0; i < (on_device ? 3 : 4); ++i) { /* reset_before: left to the processor there */
        ft__recurrent_options rows_apart = {.hidden = i == 2 ? 64 : 16}; /* widths 64, 48, 64 */
        ft__recurrent_options fours = {.hidden = 4, .bidirectional = true, .lengths = true};
        rows_apart.reset_before = fours.reset_before = i == 3;
        recurrent_case(names[i], 3, 4, 8, fours); /* whole vectors of four */
        recurrent_case(names[i], 2, 3, 3, rows_apart);
        recurrent_case(names[i], 180, 3, 1, (ft__recurrent_options){
            .hidden = 2, .bidirectional = true, .lengths = true, /* two blocks of steps */
            .reset_before = i == 3});
        for (how = 0; how < 16; ++how) {
            ft__recurrent_options o = {.hidden = how % 3 ? 3 : 17};
            o.bidirectional = how & 1;
            o.lengths = how & 2;
            o.initial = how & 4;
            o.no_bias = how & 8;
            o.relu = i == 2 && how % 2;
            o.reset_before = i == 3;
            recurrent_case(names[i], how == 5 ? 1 : 3, how == 7 ? 1 : 5, how % 4 + 1, o);
            o.cells = true;
            if (i == 0) recurrent_case(names[i], 3, 5, how % 4 + 1, o);
        }
    }
}

/* Every case; test_opencl.c runs them on a device. */
static void run_cases(void)
{
    memset(numbers, 0, sizeof numbers);
    conv_cases();
    layer_cases();
    sequence_cases();
    attention_cases();
    position_cases();
    pool_cases();
    transposed_cases();
    resize_cases();
    elementwise_cases();
    shape_cases();
    pair_cases();
    unary_cases();
    loss_cases();
    recurrent_cases();
}

/* ---- Wrong shapes and labels ---- */

static void expect_shape_error(const char *name, int inputs, ft_shape a, ft_shape b,
                               ft__options options, const char *word)
{
    ft__context *c = contexts[0];
    ft__tensor input[3];
    ft__node node;
    ft_shape out;
    int op;
    memset(&node, 0, sizeof node);
    memset(input, 0, sizeof input);
    node.name = (char *)(uintptr_t)"some_layer";
    node.options = options;
    input[0].shape = a;
    input[1].shape = input[2].shape = b;
    for (op = FT__OP_COUNT - 1; op > 0 && strcmp(ft__rows[op]->name, name) != 0; --op) {}
    ft__rows[op]->shape(c, &node, input, inputs, &out);
    CHECK(c->status == FT_SHAPE || c->status == FT_INVALID, "%s: a wrong shape is accepted", name);
    CHECK(strstr(c->text, "some_layer") && strstr(c->text, word), "%s: \"%s\"", name, c->text);
    c->status = FT_OK;
    c->text[0] = 0;
}

static void test_errors(void)
{
    ft__options none, o;
    memset(&none, 0, sizeof none);
    expect_shape_error("conv2d", 2, shape4(2, 3, 5, 5), shape4(4, 1, 3, 3), none, "3 channels");
    expect_shape_error("conv2d", 2, shape2(2, 3), shape4(4, 3, 3, 3), none, "[2, 3]");
    expect_shape_error("conv2d", 2, shape4(2, 3, 2, 2), shape4(4, 3, 3, 3), none, "3x3");
    o = none;
    o.conv2d.groups = 2;
    expect_shape_error("conv2d", 2, shape4(2, 3, 5, 5), shape4(4, 1, 3, 3), o, "groups");
    o.conv2d.groups = 1;
    o.conv2d.stride[0] = -1;
    expect_shape_error("conv2d", 2, shape4(2, 3, 5, 5), shape4(4, 3, 3, 3), o, "stride");
    expect_shape_error("linear", 2, shape2(2, 3), shape2(4, 5), none, "weight");
    o = none;
    o.recurrent.hidden = 3;
    o.recurrent.reset_before = true;
    expect_shape_error("lstm", 3, shape3(2, 4, 3), shape2(12, 3), o, "only a GRU");
    expect_shape_error("rnn", 3, shape3(2, 4, 3), shape2(3, 3), o, "only a GRU");
    expect_shape_error("batch_norm", 3, shape4(2, 3, 4, 4), shape1(4), none, "3 channels");
    o = none;
    o.pool2d.kernel[0] = 5;
    expect_shape_error("max_pool2d", 1, shape4(2, 3, 4, 4), shape1(0), o, "kernel");
    expect_shape_error("add", 2, shape2(2, 3), shape2(2, 4), none, "broadcast");
    o = none;
    o.concat.axis = 1;
    expect_shape_error("concat", 2, shape4(2, 3, 4, 5), shape4(2, 3, 5, 5), o, "all axes but 1");
    o = none;
    o.slice.step[0] = -1000;
    expect_shape_error("slice", 1, shape4(2, 3, 4, 5), shape1(0), o, "batch");
    expect_shape_error("conv1d", 2, shape3(2, 3, 5), shape3(4, 2, 3), none, "3 channels");
    expect_shape_error("conv1d", 2, shape2(2, 3), shape3(4, 2, 3), none, "[2, 3]");
    expect_shape_error("layer_norm", 3, shape2(2, 3), shape1(4), none, "[4]");
    expect_shape_error("rms_norm", 2, shape2(2, 6), shape1(4), none, "[4]");
    expect_shape_error("group_norm", 1, shape2(2, 3), shape1(0), none, "32 groups");
    expect_shape_error("group_norm", 3, shape2(2, 64), shape1(3), none, "[3]");
    expect_shape_error("matmul", 2, shape3(2, 3, 4), shape3(2, 3, 4), none, "[2, 3, 4]");
    o = none;
    o.rotary.heads = 2;
    expect_shape_error("rotary", 1, shape3(2, 3, 5), shape1(0), o, "heads");
    expect_shape_error("rotary", 1, shape3(2, 3, 6), shape1(0), o, "dimensions");
    expect_shape_error("rotary", 1, shape2(2, 6), shape1(0), o, "[2, 6]");
    expect_shape_error("rotary", 2, shape3(2, 3, 8), shape2(2, 3), o, "I32");
    o.rotary.factor = 2;
    expect_shape_error("rotary", 1, shape3(2, 3, 8), shape1(0), o, "without a scaling");
    o.rotary.scaling = FT_ROTARY_LINEAR;
    o.rotary.original_length = 5;
    expect_shape_error("rotary", 1, shape3(2, 3, 8), shape1(0), o, "FT_ROTARY_LLAMA3 only");
    o.rotary.scaling = FT_ROTARY_LLAMA3;
    o.rotary.low_frequency_factor = 4;
    expect_shape_error("rotary", 1, shape3(2, 3, 8), shape1(0), o, "below");
    o = none;
    expect_shape_error("add_positions", 2, shape3(2, 3, 5), shape2(2, 5), o, "below 2");
    expect_shape_error("add_positions", 2, shape3(2, 3, 5), shape2(4, 6), o, "[4, 6]");
    o.add_positions.first = 2;
    expect_shape_error("add_positions", 2, shape3(2, 3, 5), shape2(4, 5), o, "below 4");
    o = none;
    o.attention.heads = 2;
    expect_shape_error("attention", 3, shape3(2, 3, 4), shape3(2, 5, 2), o, "[N, S, 2 D]");
    expect_shape_error("attention", 3, shape3(2, 3, 5), shape3(2, 5, 5), o, "2 heads");
    expect_shape_error("attention", 1, shape3(2, 3, 10), shape1(0), o, "[N, T, 6 D]");
    o.attention.key_value_heads = 3;
    expect_shape_error("attention", 3, shape3(2, 3, 4), shape3(2, 5, 4), o, "divide");
    o = none;
    o.attention.scale = -1;
    expect_shape_error("attention", 3, shape3(2, 3, 4), shape3(2, 5, 4), o, "scale");
    o = none;
    o.pad.mode = FT_PAD_REFLECT;
    o.pad.after[2] = 4;
    expect_shape_error("pad", 1, shape4(2, 3, 4, 5), shape1(0), o, "only 3 numbers to reflect");
    o.pad.mode = FT_PAD_CIRCULAR;
    o.pad.before[2] = 5;
    expect_shape_error("pad", 1, shape4(2, 3, 4, 5), shape1(0), o, "only 4 numbers to wrap");
    o.pad.value = 1;
    expect_shape_error("pad", 1, shape4(2, 3, 4, 5), shape1(0), o, "value 1");
    o = none;
    o.tile.repeats[0] = 2;
    expect_shape_error("tile", 1, shape2(2, 3), shape1(0), o, "dimension 0");
    o.tile.repeats[0] = 0;
    o.tile.repeats[2] = 2;
    expect_shape_error("tile", 1, shape2(2, 3), shape1(0), o, "dimension 2");
    expect_shape_error("tile", 1, shape1(2), shape1(0), none, "[2]");
    o = none;
    expect_shape_error("token_counts", 1, shape2(2, 3), shape1(0), o, "expected tokens I32 [N, L], not F32 [2, 3]");
    o.cumsum.axis = 2;
    expect_shape_error("cumsum", 1, shape2(2, 3), shape1(0), o, "axis 2");
    o.cumsum.axis = -2;
    expect_shape_error("cumsum", 1, shape2(2, 3), shape1(0), o, "axis 0");
    o = none;
    o.topk.count = 4;
    expect_shape_error("topk", 1, shape2(2, 3), shape1(0), o, "4 places");
    o.topk.count = 2;
    o.topk.drop_axis = true;
    expect_shape_error("topk", 1, shape2(2, 3), shape1(0), o, "dropped");
    expect_shape_error("to_f32", 1, shape2(2, 3), shape1(0), none, "I32");
    o = none;
    o.concat.axis = 1;
    expect_shape_error("gather", 2, shape3(2, 3, 4), shape1(2), o, "I32");
    o = none;
    expect_shape_error("conv_transpose2d", 2, shape4(2, 3, 5, 5), shape4(4, 1, 3, 3), o, "3 channels");
    expect_shape_error("conv_transpose2d", 2, shape2(2, 3), shape4(3, 1, 3, 3), o, "[2, 3]");
    expect_shape_error("conv_transpose2d", 3, shape4(2, 3, 5, 5), shape4(3, 4, 3, 3), o, "bias");
    o.conv_transpose2d.padding[0] = 4;
    expect_shape_error("conv_transpose2d", 2, shape4(2, 3, 5, 5), shape4(3, 1, 3, 3), o, "padding");
    o.conv_transpose2d.stride[0] = o.conv_transpose2d.output_padding[0] = 2;
    expect_shape_error("conv_transpose2d", 2, shape4(2, 3, 5, 5), shape4(3, 1, 3, 3), o, "output_padding 2");
    o = none;
    expect_shape_error("resize", 1, shape4(2, 3, 4, 5), shape1(0), o, "dimension 2 of [2, 3, 4, 5]");
    o.resize.size[0] = 4;
    expect_shape_error("resize", 1, shape2(2, 3), shape1(0), o, "[N, C, L]");
    o.resize.size[1] = 3;
    expect_shape_error("resize", 1, shape3(2, 3, 4), shape1(0), o, "second size 3");
    o.resize.size[1] = 0;
    o.resize.scale[0] = NAN;
    expect_shape_error("resize", 1, shape3(2, 3, 4), shape1(0), o, "scale nan");
    o.resize.scale[0] = 0;
    o.resize.scale[1] = -2;
    expect_shape_error("resize", 1, shape4(2, 3, 4, 5), shape1(0), o, "dimension 3");
    o.resize.scale[1] = 0;
    o.resize.mode = FT_RESIZE_LINEAR;
    o.resize.rounding = FT_RESIZE_CEIL;
    expect_shape_error("resize", 1, shape4(2, 3, 4, 5), shape1(0), o, "rounding 1");
    expect_shape_error("permute", 1, shape3(2, 3, 4), shape1(0), none, "permutation");
    expect_shape_error("gather", 2, shape3(2, 3, 4), shape2(2, 3), none, "I32");
    expect_shape_error("mse", 2, shape2(2, 3), shape2(2, 4), none, "shape");
    expect_shape_error("cross_entropy", 2, shape2(2, 3), shape1(2), none, "I32");
    expect_shape_error("linear_cross_entropy", 3, shape2(2, 3), shape1(2), none, "I32");
    expect_shape_error("ctc_loss", 2, shape3(2, 5, 3), shape2(2, 4), none, "labels I32");
}

/* Run-time lengths stay as they are where nothing is asked of them. */
static void test_lengths(void)
{
    ft__tensor x;
    ft__node node;
    ft_shape out;
    memset(&x, 0, sizeof x);
    memset(&node, 0, sizeof node);
    node.name = (char *)(uintptr_t)"some_layer";
    x.shape = shape3(FT_BATCH, FT_LENGTH, 5);
    node.options.pad.mode = FT_PAD_REFLECT;
    node.options.pad.after[2] = 4;
    CHECK(ft__row_pad.shape(contexts[0], &node, &x, 1, &out) == FT_OK && out.size[1] == FT_LENGTH
          && out.size[2] == 9, "pad beside a length: %s", contexts[0]->text);
    memset(&node.options, 0, sizeof node.options);
    node.options.topk.axis = 1;
    CHECK(ft__row_topk.shape(contexts[0], &node, &x, 1, &out) == FT_OK && out.size[1] == 1
          && out.size[2] == 5, "the largest of all steps: %s", contexts[0]->text);
    memset(&node.options, 0, sizeof node.options);
    node.options.cumsum.axis = 1;
    CHECK(ft__row_cumsum.shape(contexts[0], &node, &x, 1, &out) == FT_OK && out.size[1] == FT_LENGTH,
          "sums over steps: %s", contexts[0]->text);
    node.options.tile.repeats[0] = 0;
    node.options.tile.repeats[1] = 2;
    CHECK(ft__row_tile.shape(contexts[0], &node, &x, 1, &out) == FT_SHAPE, "a length is repeated");
    contexts[0]->status = FT_OK;
}

/* A label that is no class: NaN, and nothing is read outside (see the sanitizers). */
static void test_wrong_label(int label)
{
    float x[6] = {1, 2, 3, 4, 5, 6}, y = 0, dx[6] = {0}, dy = 1, saved[6];
    double workspace[2];
    int32_t labels[2];
    ft__tensor input[2];
    ft__node node;
    ft__call call;
    labels[0] = 1;
    labels[1] = label;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(input, 0, sizeof input);
    input[0].shape = shape2(2, 3);
    input[0].value = x;
    input[0].gradient = dx;
    input[1].shape = shape1(2);
    input[1].type = FT_I32;
    input[1].value = (float *)(void *)labels;
    call.context = contexts[0];
    call.node = &node;
    call.input = input;
    call.input_count = 2;
    call.output.shape = shape1(1);
    call.output.value = &y;
    call.output.gradient = &dy;
    call.saved = saved;
    call.workspace = (float *)(void *)workspace;
    ft__cross_entropy_forward(&call);
    ft__cross_entropy_backward(&call);
    CHECK(y != y, "label %d: loss %g", label, (double)y);
}

/* Dropout: the share of zeros, the scale of the rest, the same mask backward, another for another
   key, and nothing at all in evaluation or when frozen. */
static void test_dropout(void)
{
    enum { N = 20000 };
    static float x[N], y[N], again[N], dx[N], dy[N];
    ft__tensor input;
    ft__node node;
    ft__call call;
    int i, zeros = 0, differ = 0, form;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(&input, 0, sizeof input);
    for (i = 0; i < N; ++i) x[i] = dy[i] = 1;
    node.options.dropout.probability = 0.3f;
    input.shape = shape2(2, N / 2);
    input.value = x;
    input.gradient = dx;
    call.context = contexts[1];
    call.node = &node;
    call.input = &input;
    call.input_count = 1;
    call.output.shape = input.shape;
    call.output.gradient = dy;
    call.training = true;
    for (form = 0; form < 4; ++form) {
        call.random = form == 1 ? 77 : 5;
        call.training = form != 2;
        node.frozen = form == 3;
        call.output.value = form ? again : y;
        memset(dx, 0, sizeof dx);
        ft__dropout_forward(&call);
        ft__dropout_backward(&call);
        for (i = 0; i < N; ++i) {
            if (dx[i] != call.output.value[i]) break;
            if (form == 0) zeros += y[i] == 0;
            else if (form == 1) differ += y[i] != again[i];
            else if (again[i] != 1) break;
            if (form < 2 && call.output.value[i] != 0
                && !CLOSE(call.output.value[i], 1 / 0.7, 1e-6)) break;
        }
        CHECK(i == N, "dropout, form %d: element %d", form, i);
    }
    CHECK(fabs(zeros / (double)N - 0.3) < 0.015, "%d of %d are zero", zeros, N);
    CHECK(differ > N / 4, "another key changes only %d", differ);
    node.frozen = false;
    for (form = 0; form < 3; ++form) { /* one draw for each row, for a row's steps, for each row of a matrix */
        node.options.dropout.per_sample = form == 0;
        node.options.dropout.locked = form > 0;
        input.shape = call.output.shape = form < 2 ? shape3(10, N / 100, 10) : shape2(10, N / 10);
        memset(dx, 0, sizeof dx);
        ft__dropout_forward(&call);
        ft__dropout_backward(&call);
        for (i = 0; i < N; ++i) {
            int row = i / (N / 10), at = form == 1 ? row * 10 + i % 10 : row;
            float left = ft__uniform(call.random, (uint64_t)at) < 0.3f ? 0 : 1 / 0.7f;
            if (dx[i] != again[i] || !CLOSE(again[i], left, 1e-6)) break;
        }
        CHECK(i == N, "dropout by rows, form %d: element %d", form, i);
    }
}

int main(int count, char **words)
{
    static const int threads[] = {1, 2, 5};
    int i, op, level;
    if (count > 1 && !strcmp(words[1], "--cases")) {
        lists = true;
        run_cases();
        return 0;
    }
    if (count > 1) only_op = words[1];
    if (count > 2) only_case = atoi(words[2]);
    for (i = 0; i < 3; ++i) {
        ft_desc desc = {.threads = threads[i]};
        contexts[i] = &ft_create(desc)->context; /* the first member of a model */
    }
    run_cases();
    for (level = 0; level < FT__SIMD_COUNT; ++level) { /* and with fewer instructions */
        int best = contexts[0]->simd;
        if (level == best) continue;
        if (!ft__simd_available(level)) {
            skip_level(ft__tiles[level].name);
            continue;
        }
        for (i = 0; i < 3; ++i) contexts[i]->simd = level;
        strided_cases();
        for (i = 0; i < 3; ++i) contexts[i]->simd = best;
    }
    test_dropout();
    test_errors();
    test_lengths();
    test_wrong_label(3);
    test_wrong_label(-2);
    test_wrong_label(1000000000);
    for (op = FT__OP_state + 1; op < FT__OP_COUNT; ++op)
        CHECK(numbers[op] || op == FT__OP_dropout || op == FT__OP_custom, "%s: no case", ft__rows[op]->name);
    for (i = 0; i < 3; ++i) ft_destroy((ft_model *)(void *)contexts[i]);
    return check_done("test_operators");
}
