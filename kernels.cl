/* kernels.cl - every OpenCL kernel of finetune.h, which includes this file as text. OpenCL C 1.2,
   valid by itself (make check-cl).

   A chunk is FINETUNE_CL(name, code): at most 4,095 letters without comments, as long as a string
   of C may be, and without lines that start with #, as it is a macro's argument. FINETUNE_LINE
   gives the line at which the chunk begins.

   Feature maps are channels-last in memory, [N, H, W, C]; weights are [O, I, H, W]. A kernel over
   `count` numbers is launched for more, and the rest return at once. No kernel adds atomically:
   each number has one owner, who adds in a fixed order, so that the bits are always the same.
   `fresh`: the gradient is still empty, so it is written, not added to. */
#ifndef FINETUNE_CL
#define FINETUNE_CL(name, ...) __VA_ARGS__
#define FINETUNE_LINE
#define FINETUNE_PASTE(a, b) a##b /* the library defines it in the text that it makes of this */
#ifndef WIDEST /* type of a few sums; the library sets double if the device has it */
#define WIDEST float
#endif
#ifndef TILE_GROUP /* of the tiled products; the library sets what suits the device */
#define TILE_GROUP 16
#define TILE_Y 4
#define TILE_X 4
#define TILE_DEPTH 16
#endif
#endif

/* ---- Activations, as in operators/activations: X(name, y = f(x), slope dy/dx in x or y). The
   library reads the names and numbers them. a: the slope of leaky_relu, alpha of elu and celu,
   lambda of softshrink, or whether gelu is the form with tanh ---- */
#define FINETUNE_ACTIVATIONS(X)                                                                   \
    X(sigmoid, sigmoid(x), y * (1.0f - y))                                                        \
    X(tanh, tanh(x), 1.0f - y * y)                                                                \
    X(relu, x < 0.0f ? 0.0f : x, y <= 0.0f ? 0.0f : 1.0f)                                         \
    X(relu6, x > 6.0f ? 6.0f : x < 0.0f ? 0.0f : x, y <= 0.0f || y >= 6.0f ? 0.0f : 1.0f)         \
    X(leaky_relu, x > 0.0f ? x : a * x, x > 0.0f ? 1.0f : a)                                      \
    X(elu, x > 0.0f ? x : a * expm1(x), x > 0.0f ? 1.0f : a * exp(x))                             \
    X(softplus, softplus(x), sigmoid(x))                                                          \
    X(softsign, x / (1.0f + fabs(x)), softsign_slope(x))                                          \
    X(gelu, gelu(x, a), gelu_slope(x, a))                                                         \
    X(silu, x * sigmoid(x), silu_slope(x))                                                        \
    X(mish, x * tanh(softplus(x)),                                                                \
      tanh(softplus(x)) + x * (1.0f - tanh(softplus(x)) * tanh(softplus(x))) * sigmoid(x))        \
    X(selu, x > 0.0f ? 1.05070099f * x : 1.75809934f * expm1(x),                                  \
      x > 0.0f ? 1.05070099f : 1.75809934f * exp(x))                                              \
    X(celu, x > 0.0f ? x : a * expm1(x / a), x > 0.0f ? 1.0f : exp(x / a))                        \
    X(hardsigmoid, hardsigmoid(x), fabs(x) < 3.0f ? 1.0f / 6.0f : 0.0f)                           \
    X(hardswish, x * hardsigmoid(x), x <= -3.0f ? 0.0f : x < 3.0f ? x / 3.0f + 0.5f : 1.0f)       \
    X(logsigmoid, -softplus(-x), sigmoid(-x))                                                     \
    X(softshrink, x > a ? x - a : x < -a ? x + a : 0.0f * x, fabs(x) > a ? 1.0f : 0.0f)           \
    X(tanhshrink, x - tanh(x), tanh(x) * tanh(x))                                                 \
    X(quick_gelu, x * sigmoid(1.702f * x), quick_gelu_slope(x))
#define ACTIVATION_NUMBER(name, value, slope) FINETUNE_PASTE(ACTIVATION_, name),
#define ACTIVATION_VALUE(name, value, slope) case FINETUNE_PASTE(ACTIVATION_, name): return value;
#define ACTIVATION_SLOPE(name, value, slope) case FINETUNE_PASTE(ACTIVATION_, name): return slope;

FINETUNE_LINE FINETUNE_CL(activations,
enum { FINETUNE_ACTIVATIONS(ACTIVATION_NUMBER) NO_ACTIVATION = -1 };

float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1p(exp(-fabs(x))); }

float hardsigmoid(float x)
{
    float v = x + 3.0f;
    return (v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v) / 6.0f;
}

float quick_gelu_slope(float x)
{
    float s = sigmoid(1.702f * x);
    return s * (1.0f + 1.702f * x * (1.0f - s));
}

float softsign_slope(float x)
{
    float s = 1.0f + fabs(x);
    return 1.0f / (s * s);
}

float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

float gelu(float x, float by_tanh)
{
    if (by_tanh != 0.0f)
        return 0.5f * x * (1.0f + tanh(0.797884561f * (x + 0.044715f * x * x * x)));
    return 0.5f * x * (1.0f + erf(0.707106781f * x));
}

/* Beyond 20 the term of the bell curve is 0; it would be inf * 0 for a huge x. */
float gelu_slope(float x, float by_tanh)
{
    float bound = fabs(x) > 20.0f ? 20.0f : x;
    float t = tanh(0.797884561f * (x + 0.044715f * x * x * x));
    if (by_tanh != 0.0f)
        return 0.5f * (1.0f + t)
            + 0.5f * bound * (1.0f - t * t) * 0.797884561f * (1.0f + 0.134145f * bound * bound);
    return 0.5f * (1.0f + erf(0.707106781f * x))
        + bound * 0.398942280f * exp(-0.5f * bound * bound);
}

float activate(int op, float a, float x)
{
    switch (op) {
    FINETUNE_ACTIVATIONS(ACTIVATION_VALUE)
    default: return x;
    }
}

/* v: y where the slope is given by it, else x */
float slope_of(int op, float a, float v)
{
    float x = v, y = v;
    switch (op) {
    FINETUNE_ACTIVATIONS(ACTIVATION_SLOPE)
    default: return 1.0f;
    }
}
)

/* y = f(x) */
FINETUNE_LINE FINETUNE_CL(activation_forward,
__kernel void activation_forward(__global const float *x, __global float *y, int count, int op,
                                 float a)
{
    int i = get_global_id(0);
    if (i < count) y[i] = activate(op, a, x[i]);
}
)

/* dx (+)= dy f'; `kept` is y or x. dx may be dy. */
FINETUNE_LINE FINETUNE_CL(activation_backward,
__kernel void activation_backward(__global const float *kept, __global const float *dy,
                                  __global float *dx, int count, int op, float a, int fresh)
{
    int i = get_global_id(0);
    if (i >= count) return;
    dx[i] = (fresh ? 0.0f : dx[i]) + dy[i] * slope_of(op, a, kept[i]);
}
)

FINETUNE_LINE FINETUNE_CL(fill,
__kernel void fill(__global float *x, int count, float value)
{
    int i = get_global_id(0);
    if (i < count) x[i] = value;
}
)

/* y = 0 with the probability p, else x * scale; or, with `add`, y += that. The random numbers are
   those of basics/random: a function of the key and the index. If locked, the steps of a sample
   share one mask: `each` numbers per step, `sample` per sample. If per_sample, all of its numbers
   share one draw: each is 1. Else both are 1. */
FINETUNE_LINE FINETUNE_CL(dropout,
ulong mix(ulong z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
    return z ^ (z >> 31);
}

__kernel void dropout(__global const float *x, __global float *y, int count, ulong key, float p,
                      float scale, int sample, int each, int add)
{
    int i = get_global_id(0), place = i / sample * each + i % each;
    float uniform, v;
    if (i >= count) return;
    uniform = (float)(mix(key + ((ulong)place + 1) * 0x9E3779B97F4A7C15UL) >> 40)
        * (1.0f / 16777216.0f);
    v = x[i] * (uniform < p ? 0.0f : scale);
    y[i] = add ? y[i] + v : v;
}
)

/* Sums and maxima over a work-group of GROUP items, of one number each: the first ROOT items take
   every ROOT-th number, then every item takes their results. So the order is fixed, and there are
   three barriers, where a tree of pairs needs eight. */
FINETUNE_LINE FINETUNE_CL(groups,
enum { ROOT = 8, GROUP = ROOT * ROOT };

float group_sum(__local float *parts, int item, float x)
{
    int i;
    parts[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (i = item + ROOT; item < ROOT && i < GROUP; i += ROOT) parts[item] += parts[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (x = parts[0], i = 1; i < ROOT; ++i) x += parts[i];
    barrier(CLK_LOCAL_MEM_FENCE); /* before parts is written again */
    return x;
}

float group_max(__local float *parts, int item, float x)
{
    int i;
    parts[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (i = item + ROOT; item < ROOT && i < GROUP; i += ROOT)
        parts[item] = fmax(parts[item], parts[i]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (x = parts[0], i = 1; i < ROOT; ++i) x = fmax(x, parts[i]);
    barrier(CLK_LOCAL_MEM_FENCE);
    return x;
}
)

/* Softmax along an axis: x is [outer, size, inner], one work-item per line.
       y = exp(x - max) / sum(exp(x - max)), or its logarithm. sign: of x, -1 for softmin */
FINETUNE_LINE FINETUNE_CL(softmax_forward,
__kernel void softmax_forward(__global const float *x, __global float *y, int lines, int size,
                              int inner, int logarithm, float sign)
{
    int line = get_global_id(0), at, i;
    float largest, sum = 0.0f;
    if (line >= lines) return;
    at = line / inner * size * inner + line % inner;
    largest = sign * x[at];
    for (i = 1; i < size; ++i) {
        float v = sign * x[at + i * inner];
        largest = v > largest || v != v ? v : largest;
    }
    for (i = 0; i < size; ++i) sum += exp(sign * x[at + i * inner] - largest);
    for (i = 0; i < size; ++i) {
        float v = sign * x[at + i * inner] - largest;
        y[at + i * inner] = logarithm ? v - log(sum) : exp(v) / sum;
    }
}
)

/* softmax: dx += y (dy - sum(dy y)); log_softmax: dx += dy - exp(y) sum(dy) */
FINETUNE_LINE FINETUNE_CL(softmax_backward,
__kernel void softmax_backward(__global const float *y, __global const float *dy,
                               __global float *dx, int lines, int size, int inner, int logarithm,
                               float sign)
{
    int line = get_global_id(0), at, i;
    float sum = 0.0f;
    if (line >= lines) return;
    at = line / inner * size * inner + line % inner;
    for (i = 0; i < size; ++i) {
        int j = at + i * inner;
        sum += dy[j] * (logarithm ? 1.0f : y[j]);
    }
    for (i = 0; i < size; ++i) {
        int j = at + i * inner;
        dx[j] += sign * (logarithm ? dy[j] - exp(y[j]) * sum : y[j] * (dy[j] - sum));
    }
}
)

/* The same for long lines that are contiguous: a work-group per line, whose items read every
   GROUP-th number. */
FINETUNE_LINE FINETUNE_CL(softmax_group,
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void softmax_group_forward(__global const float *x, __global float *y, int size, int logarithm,
                           float sign)
{
    __local float parts[GROUP];
    int item = get_local_id(0), at = get_group_id(0) * size, i;
    float largest = -INFINITY, sum = 0.0f;
    for (i = item; i < size; i += GROUP) largest = fmax(largest, sign * x[at + i]);
    largest = group_max(parts, item, largest);
    for (i = item; i < size; i += GROUP) {
        float e = exp(sign * x[at + i] - largest);
        if (!logarithm) y[at + i] = e;
        sum += e;
    }
    sum = group_sum(parts, item, sum);
    for (i = item; i < size; i += GROUP)
        y[at + i] = logarithm ? sign * x[at + i] - largest - log(sum) : y[at + i] / sum;
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void softmax_group_backward(__global const float *y, __global const float *dy,
                            __global float *dx, int size, int logarithm, float sign)
{
    __local float parts[GROUP];
    int item = get_local_id(0), at = get_group_id(0) * size, i;
    float sum = 0.0f;
    for (i = item; i < size; i += GROUP) sum += dy[at + i] * (logarithm ? 1.0f : y[at + i]);
    sum = group_sum(parts, item, sum);
    for (i = item; i < size; i += GROUP)
        dx[at + i] += sign * (logarithm ? dy[at + i] - exp(y[at + i]) * sum
                                        : y[at + i] * (dy[at + i] - sum));
}
)

/* glu: y = a sigmoid(b), a and b the halves of each line of x, [2 half]; da = dy s, db = dy a s (1 - s) */
FINETUNE_LINE FINETUNE_CL(glu,
__kernel void glu_forward(__global const float *x, __global float *y, int count, int half_line)
{
    int i = get_global_id(0), at = i / half_line * 2 * half_line + i % half_line;
    if (i < count) y[i] = x[at] * sigmoid(x[at + half_line]);
}

__kernel void glu_backward(__global const float *x, __global const float *dy, __global float *dx,
                           int count, int half_line, int fresh)
{
    int i = get_global_id(0), at = i / half_line * 2 * half_line + i % half_line;
    float s;
    if (i >= count) return;
    s = sigmoid(x[at + half_line]);
    dx[at] = (fresh ? 0.0f : dx[at]) + dy[i] * s;
    dx[at + half_line] = (fresh ? 0.0f : dx[at + half_line]) + dy[i] * x[at] * s * (1.0f - s);
}
)

/* prelu: x is [outer, size, inner], w [size]. The gradient of w: item `part` of each slope sums every
   parts-th number below 0, prelu_weight_end puts them together. It runs before dx, which may be dy */
FINETUNE_LINE FINETUNE_CL(prelu,
__kernel void prelu_forward(__global const float *x, __global const float *w, __global float *y,
                            int count, int size, int inner)
{
    int i = get_global_id(0);
    if (i < count) y[i] = x[i] > 0.0f ? x[i] : w[i / inner % size] * x[i];
}

__kernel void prelu_backward(__global const float *x, __global const float *w,
                             __global const float *dy, __global float *dx, int count, int size,
                             int inner, int fresh)
{
    int i = get_global_id(0);
    if (i >= count) return;
    dx[i] = (fresh ? 0.0f : dx[i]) + (x[i] > 0.0f ? 1.0f : w[i / inner % size]) * dy[i];
}

__kernel void prelu_weight(__global const float *x, __global const float *dy, __global float *sums,
                           int outer, int size, int inner, int parts)
{
    int part = get_global_id(0) % parts, c = get_global_id(0) / parts, i;
    float sum = 0.0f;
    if (c >= size) return;
    for (i = part; i < outer * inner; i += parts) {
        int at = (i / inner * size + c) * inner + i % inner;
        if (!(x[at] > 0.0f)) sum += x[at] * dy[at];
    }
    sums[c * parts + part] = sum;
}

__kernel void prelu_weight_end(__global const float *sums, __global float *dw, int size, int parts)
{
    int c = get_global_id(0), i;
    float sum = 0.0f;
    if (c >= size) return;
    for (i = 0; i < parts; ++i) sum += sums[c * parts + i];
    dw[c] += sum;
}
)

/* ---- Matrix products that gather their left rows: linear layers and convolutions, and their
   gradients with respect to the input.

       out[row][n] = sum over taps t and channels c of in[source(row, t)][c] * packed[t, c][n]

   A row is a pixel of the result, [rows_y, rows_x] per picture; a tap is a position in the kernel.
   In each direction, position p of a row and tap t read from
       source = (p * mul + off + t * tap) / div, if that is whole and inside, else zero
   - forward: mul = stride, off = -padding, tap = dilation, div = 1
   - input gradient: mul = 1, off = padding, tap = -dilation, div = stride
   - linear: one tap, one pixel. ---- */

/* packed[g][t, c][n] = weight[g * g_step + n * n_step + c * c_step + t], columns padded with zeros
   to a width of `wide` */
FINETUNE_LINE FINETUNE_CL(pack_weight,
__kernel void pack_weight(__global const float *weight, __global float *packed, int groups,
                          int taps, int channels, int n, int wide, int g_step, int n_step,
                          int c_step)
{
    int i = get_global_id(0), column = i % wide, k = i / wide % (taps * channels);
    int g = i / wide / (taps * channels), t = k / channels, c = k % channels;
    if (g >= groups) return;
    packed[i] = column < n ? weight[g * g_step + column * n_step + c * c_step + t] : 0.0f;
}
)

FINETUNE_LINE FINETUNE_CL(gather,
typedef struct gather {
    int pictures, rows_y, rows_x, in_y, in_x, taps_y, taps_x, mul_y, mul_x, off_y, off_x;
    int tap_y, tap_x, div_y, div_x;
    int in_pixel, channels;     /* numbers per pixel of `in`, and per group */
    int out_pixel, n, wide;     /* the same of `out`; columns of `packed` */
    int groups, has_bias, add, op;
    int in_at, out_at;          /* offsets in their buffers */
    float a;
} gather;

/* The pixel that position (y, x) of picture n reads at tap (ty, tx); -1: no pixel, so zero. */
int source_at(const gather *g, int n, int y, int x, int ty, int tx)
{
    y = y * g->mul_y + g->off_y + ty * g->tap_y;
    x = x * g->mul_x + g->off_x + tx * g->tap_x;
    if (y < 0 || x < 0) return -1;
    if (g->div_y > 1) {
        if (y % g->div_y) return -1;
        y /= g->div_y;
    }
    if (g->div_x > 1) {
        if (x % g->div_x) return -1;
        x /= g->div_x;
    }
    return y < g->in_y && x < g->in_x ? (n * g->in_y + y) * g->in_x + x : -1;
}

int source_of(const gather *g, int row, int tap)
{
    int plane = g->rows_y * g->rows_x, p = row % plane;
    return source_at(g, row / plane, p / g->rows_x, p % g->rows_x, tap / g->taps_x,
                     tap % g->taps_x);
}

/* Stores or adds a sum, after bias and activation. */
void put(const gather *g, __global const float *bias, __global float *out, int row, int group,
         int n, float sum)
{
    __global float *to = out + g->out_at + row * g->out_pixel + group * g->n + n;
    if (g->has_bias) sum += bias[group * g->n + n];
    if (g->op >= 0) sum = activate(g->op, g->a, sum);
    *to = g->add ? *to + sum : sum;
}
)

/* The plain form: one work-item per number. */
FINETUNE_LINE FINETUNE_CL(gather_plain,
__kernel void gather_plain(__global const float *in, __global const float *packed,
                           __global const float *bias, __global float *out, gather g)
{
    int n = get_global_id(0), row = get_global_id(1), group = get_global_id(2), t, c;
    int taps = g.taps_y * g.taps_x;
    float sum = 0.0f;
    if (n >= g.n || row >= g.pictures * g.rows_y * g.rows_x) return;
    for (t = 0; t < taps; ++t) {
        int from = source_of(&g, row, t);
        if (from < 0) continue;
        for (c = 0; c < g.channels; ++c)
            sum += in[g.in_at + from * g.in_pixel + group * g.channels + c]
                * packed[((group * taps + t) * g.channels + c) * g.wide + n];
    }
    put(&g, bias, out, row, group, n, sum);
}
)

/* For GPUs: TILE_GROUP x TILE_GROUP work-items compute a tile of the result, TILE_Y x TILE_X
   numbers each. Per step of TILE_DEPTH channels the group copies a piece of the left and of the
   right matrix to local memory, where every number is read as often as the tile is wide or high.
   The sizes are tuned for each device; they do not change the order of a number's sum. */
FINETUNE_LINE FINETUNE_CL(gather_tiled,
/* A work-item's part of such a step: every TILE_GROUP-th row of `left` [TILE_DEPTH][step] times
   every TILE_GROUP-th column of `right`. */
void tile_add(float sum[TILE_Y][TILE_X], __local const float *left, int step,
              __local const float *right)
{
    int i, j, k;
    for (k = 0; k < TILE_DEPTH; ++k)
        for (i = 0; i < TILE_Y; ++i)
            for (j = 0; j < TILE_X; ++j)
                sum[i][j] += left[k * step + TILE_GROUP * i]
                    * right[k * TILE_GROUP * TILE_X + TILE_GROUP * j];
}

__kernel __attribute__((reqd_work_group_size(TILE_GROUP, TILE_GROUP, 1)))
void gather_tiled(__global const float *in, __global const float *packed,
                  __global const float *bias, __global float *out, gather g)
{
    enum { ROWS = TILE_GROUP * TILE_Y, COLUMNS = TILE_GROUP * TILE_X };
    __local float left[TILE_DEPTH][ROWS + 1];
    __local float right[TILE_DEPTH][COLUMNS];
    int lx = get_local_id(0), ly = get_local_id(1), item = ly * TILE_GROUP + lx;
    int n0 = get_group_id(0) * COLUMNS, row0 = get_group_id(1) * ROWS, group = get_global_id(2);
    int rows = g.pictures * g.rows_y * g.rows_x, taps = g.taps_y * g.taps_x, t, c0, i, j;
    float sum[TILE_Y][TILE_X] = {{0.0f}};
    for (t = 0; t < taps; ++t)
        for (c0 = 0; c0 < g.channels; c0 += TILE_DEPTH) {
            for (i = item; i < ROWS * TILE_DEPTH; i += TILE_GROUP * TILE_GROUP) {
                int row = row0 + i / TILE_DEPTH, c = c0 + i % TILE_DEPTH, from = -1;
                if (row < rows && c < g.channels) from = source_of(&g, row, t);
                left[i % TILE_DEPTH][i / TILE_DEPTH] = from < 0 ? 0.0f
                    : in[g.in_at + from * g.in_pixel + group * g.channels + c];
            }
            for (i = item; i < COLUMNS * TILE_DEPTH; i += TILE_GROUP * TILE_GROUP) {
                int c = c0 + i / COLUMNS, n = n0 + i % COLUMNS;
                right[i / COLUMNS][i % COLUMNS] = c < g.channels && n < g.wide
                    ? packed[((group * taps + t) * g.channels + c) * g.wide + n] : 0.0f;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            tile_add(sum, left[0] + ly, ROWS + 1, right[0] + lx);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    for (i = 0; i < TILE_Y; ++i)
        for (j = 0; j < TILE_X; ++j) {
            int row = row0 + ly + TILE_GROUP * i, n = n0 + lx + TILE_GROUP * j;
            if (row < rows && n < g.n) put(&g, bias, out, row, group, n, sum[i][j]);
        }
}
)

/* For large products on GPUs: 256 work-items compute a tile of 128 x 128 numbers, 8 x 8 each, in
   steps of 8 in depth, k = (tap, channel). While one pair of pieces in local memory is multiplied,
   the next one is loaded through registers into the other pair. Every read of local memory brings
   four numbers, and the 32 items that run side by side read 4 different fours on the left, 8 on the
   right: four times fewer reads per product than in gather_tiled. LEFT_STEP: a row of the left
   piece, longer than 128 numbers so that the 32 items that write a column use 32 banks. */
FINETUNE_LINE FINETUNE_CL(block,
enum { LEFT_STEP = 33, RIGHT_STEP = 32, LEFT_FOURS = 8 * LEFT_STEP, RIGHT_FOURS = 8 * RIGHT_STEP,
       BLOCK_FOURS = 2 * (LEFT_FOURS + RIGHT_FOURS) };

/* What a work-item reads of the left matrix: the row's position (n is a picture, or beyond the last
   one), its tap and channel; pixel: that of the tap, -1 for zeros. */
typedef struct reader { int n, y, x, tap_y, tap_x, c, pixel; } reader;

void reader_find(const gather *g, reader *r)
{
    r->pixel = r->n >= g->pictures || r->tap_y >= g->taps_y ? -1
        : source_at(g, r->n, r->y, r->x, r->tap_y, r->tap_x);
}

void reader_place(const gather *g, reader *r, int row)
{
    r->n = row / (g->rows_y * g->rows_x);
    r->y = row / g->rows_x % g->rows_y;
    r->x = row % g->rows_x;
}

reader reader_start(const gather *g, int row, int k)
{
    reader r;
    reader_place(g, &r, row);
    r.tap_y = k / g->channels / g->taps_x;
    r.tap_x = k / g->channels % g->taps_x;
    r.c = k % g->channels;
    reader_find(g, &r);
    return r;
}

/* Moves on in depth. Most moves stay in their tap, without a division; the others recompute the
   row's position, so that it needs no registers: with it they would be over 128, and one work-group
   at a time would run instead of two. */
void reader_move(const gather *g, reader *r, int row, int by)
{
    r->c += by;
    if (r->c < g->channels) return;
    r->tap_x += r->c / g->channels;
    r->c %= g->channels;
    r->tap_y += r->tap_x / g->taps_x;
    r->tap_x %= g->taps_x;
    reader_place(g, r, row);
    reader_find(g, r);
}

/* Moves down to a later row. */
void reader_descend(const gather *g, reader *r, int by)
{
    r->x += by;
    if (r->x >= g->rows_x) {
        r->y += r->x / g->rows_x;
        r->x %= g->rows_x;
        if (r->y >= g->rows_y) {
            r->n += r->y / g->rows_y;
            r->y %= g->rows_y;
        }
    }
    reader_find(g, r);
}

/* Numbers k to k + 3 of a row. */
float4 read_row(const gather *g, __global const float *in, int group, const reader *r)
{
    return r->pixel < 0 ? (float4)(0.0f)
        : *(__global const float4 *)(in + g->in_at + (size_t)r->pixel * g->in_pixel
                                     + group * g->channels + r->c);
}

/* Where in the tile an item's numbers begin: it has rows 0 to 3 and 16 to 19 from there, columns 0
   to 3 and 32 to 35. */
int block_row(int item) { return item / 64 * 32 + item % 32 / 8 * 4; }
int block_column(int item) { return item / 32 % 2 * 64 + item % 8 * 4; }

/* sum[i] += left[k][row i] * right[k][columns], for one k */
void block_add(float8 *sum, __local const float4 *left, __local const float4 *right)
{
    float4 low = left[0], high = left[4];
    float8 b = (float8)(right[0], right[8]);
    sum[0] += low.x * b; sum[1] += low.y * b; sum[2] += low.z * b; sum[3] += low.w * b;
    sum[4] += high.x * b; sum[5] += high.y * b; sum[6] += high.z * b; sum[7] += high.w * b;
}

void block_multiply(float8 *sum, __local const float4 *left, __local const float4 *right, int item)
{
    left += block_row(item) / 4;
    right += block_column(item) / 4;
    block_add(sum, left, right);
    block_add(sum, left + LEFT_STEP, right + RIGHT_STEP);
    block_add(sum, left + 2 * LEFT_STEP, right + 2 * RIGHT_STEP);
    block_add(sum, left + 3 * LEFT_STEP, right + 3 * RIGHT_STEP);
    block_add(sum, left + 4 * LEFT_STEP, right + 4 * RIGHT_STEP);
    block_add(sum, left + 5 * LEFT_STEP, right + 5 * RIGHT_STEP);
    block_add(sum, left + 6 * LEFT_STEP, right + 6 * RIGHT_STEP);
    block_add(sum, left + 7 * LEFT_STEP, right + 7 * RIGHT_STEP);
}

void stage_row(__local float4 *to, float8 sum)
{
    to[0] = sum.lo;
    to[8] = sum.hi;
}

/* Copies lines 32 pass to 32 pass + 31 of the tile to local memory, [32][128], so that all 256
   items can write them out, side by side, in a short loop. */
void block_stage(__local float4 *room, const float8 *sum, int item, int pass)
{
    __local float4 *to = room + block_row(item) % 32 * 32 + block_column(item) / 4;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item / 64 == pass) {
        stage_row(to, sum[0]); stage_row(to + 32, sum[1]);
        stage_row(to + 64, sum[2]); stage_row(to + 96, sum[3]);
        stage_row(to + 512, sum[4]); stage_row(to + 544, sum[5]);
        stage_row(to + 576, sum[6]); stage_row(to + 608, sum[7]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}
)

FINETUNE_LINE FINETUNE_CL(gather_block,
/* Writes a column of the left piece, [k][row]. */
void turn_left(__local float4 *left, float4 v, int row, int k)
{
    __local float *to = (__local float *)left + k * 4 * LEFT_STEP + row;
    to[0] = v.x;
    to[4 * LEFT_STEP] = v.y;
    to[8 * LEFT_STEP] = v.z;
    to[12 * LEFT_STEP] = v.w;
}

/* Four numbers of a row of the right matrix, [k][column]; zeros beyond its end. */
float4 read_packed(const gather *g, __global const float *packed, int k, int depth, int column)
{
    return k < depth && column < g->wide
        ? *(__global const float4 *)(packed + (size_t)k * g->wide + column) : (float4)(0.0f);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void gather_block(__global const float *in, __global const float *packed,
                  __global const float *bias, __global float *out, gather g)
{
    __local float4 room[BLOCK_FOURS];
    int item = get_local_id(0), n0 = get_group_id(0) * 128, row0 = get_group_id(1) * 128;
    int group = get_group_id(2), depth = g.taps_y * g.taps_x * g.channels, k, side = 0, i, pass;
    int column = n0 + item % 32 * 4;
    reader r = reader_start(&g, row0 + item / 2, item % 2 * 4);
    float8 sum[8] = {0.0f};
    float4 a = read_row(&g, in, group, &r), b;
    packed += (size_t)group * depth * g.wide;
    b = read_packed(&g, packed, item / 32, depth, column);
    for (k = 8; k < depth + 8; k += 8) {
        __local float4 *left = room + side * LEFT_FOURS;
        __local float4 *right = room + 2 * LEFT_FOURS + side * RIGHT_FOURS;
        turn_left(left, a, item / 2, item % 2 * 4);
        right[item / 32 * RIGHT_STEP + item % 32] = b;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k < depth) {
            reader_move(&g, &r, row0 + item / 2, 8);
            a = read_row(&g, in, group, &r);
            b = read_packed(&g, packed, k + item / 32, depth, column);
        }
        block_multiply(sum, left, right, item);
        side = 1 - side;
    }
    for (pass = 0; pass < 4; ++pass) {
        block_stage(room, sum, item, pass);
        for (i = item; i < 4096; i += 256) {
            int row = row0 + pass * 32 + i / 128, n = n0 + i % 128;
            if (row < g.pictures * g.rows_y * g.rows_x && n < g.n)
                put(&g, bias, out, row, group, n, ((__local float *)room)[i]);
        }
    }
}
)

/* For processors: a work-item computes 8 rows of 16 columns in vector registers, without copies to
   local memory, as the cache does that. Rows that read nothing at a tap are skipped. */
FINETUNE_LINE FINETUNE_CL(gather_wide,
__kernel void gather_wide(__global const float *in, __global const float *packed,
                          __global const float *bias, __global float *out, gather g)
{
    int n0 = get_global_id(0) * 16, row0 = get_global_id(1) * 8, group = get_global_id(2);
    int rows = g.pictures * g.rows_y * g.rows_x, taps = g.taps_y * g.taps_x, t, c, i, j;
    int n[8], y[8], x[8];
    float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f, s4 = 0.0f, s5 = 0.0f, s6 = 0.0f, s7 = 0.0f;
    float sums[8][16];
    if (n0 >= g.n || row0 >= rows) return;
    for (i = 0; i < 8; ++i) {
        int row = min(row0 + i, rows - 1);
        n[i] = row / (g.rows_y * g.rows_x);
        y[i] = row / g.rows_x % g.rows_y;
        x[i] = row % g.rows_x;
    }
    for (t = 0; t < taps; ++t) {
        __global const float *from[8];
        __global const float *b = packed + (size_t)(group * taps + t) * g.channels * g.wide + n0;
        float f[8];
        int some = 0, all = 1;
        for (i = 0; i < 8; ++i) {
            int at = source_at(&g, n[i], y[i], x[i], t / g.taps_x, t % g.taps_x);
            some |= at >= 0;
            all &= at >= 0;
            f[i] = at < 0 ? 0.0f : 1.0f;
            from[i] = in + g.in_at + (size_t)(at < 0 ? 0 : at) * g.in_pixel + group * g.channels;
        }
        if (!some) continue;
        if (all)
            for (c = 0; c < g.channels; ++c, b += g.wide) {
                float16 w = vload16(0, b);
                s0 += from[0][c] * w; s1 += from[1][c] * w; s2 += from[2][c] * w;
                s3 += from[3][c] * w; s4 += from[4][c] * w; s5 += from[5][c] * w;
                s6 += from[6][c] * w; s7 += from[7][c] * w;
            }
        else
            for (c = 0; c < g.channels; ++c, b += g.wide) {
                float16 w = vload16(0, b);
                if (f[0] != 0.0f) s0 += from[0][c] * w;
                if (f[1] != 0.0f) s1 += from[1][c] * w;
                if (f[2] != 0.0f) s2 += from[2][c] * w;
                if (f[3] != 0.0f) s3 += from[3][c] * w;
                if (f[4] != 0.0f) s4 += from[4][c] * w;
                if (f[5] != 0.0f) s5 += from[5][c] * w;
                if (f[6] != 0.0f) s6 += from[6][c] * w;
                if (f[7] != 0.0f) s7 += from[7][c] * w;
            }
    }
    vstore16(s0, 0, sums[0]); vstore16(s1, 0, sums[1]); vstore16(s2, 0, sums[2]);
    vstore16(s3, 0, sums[3]); vstore16(s4, 0, sums[4]); vstore16(s5, 0, sums[5]);
    vstore16(s6, 0, sums[6]); vstore16(s7, 0, sums[7]);
    for (i = 0; i < 8 && row0 + i < rows; ++i)
        for (j = 0; j < 16 && n0 + j < g.n; ++j)
            put(&g, bias, out, row0 + i, group, n0 + j, sums[i][j]);
}
)

/* y = f(y + bias), after a matrix product of CLBlast */
FINETUNE_LINE FINETUNE_CL(bias_activation,
__kernel void bias_activation(__global const float *bias, __global float *y, int count, int n,
                              int has_bias, int op, float a)
{
    int i = get_global_id(0);
    if (i < count) y[i] = activate(op, a, y[i] + (has_bias ? bias[i % n] : 0.0f));
}
)

/* ---- The weight's gradient:
       dweight[o][c][t] += sum over rows of in[source(row, t)][c] dy[row][o]
   The rows are cut into slices, whose sums go to partial[slice][g][t, c][o] first: a layer has few
   weights and very many pixels. Here `in` is the layer's input, n its outputs. ---- */

FINETUNE_LINE FINETUNE_CL(weight_plain,
__kernel void weight_plain(__global const float *in, __global const float *dy,
                           __global float *partial, gather g, int slice_rows)
{
    int o = get_global_id(0), k = get_global_id(1), group, slice, t, c, row, end;
    int taps = g.taps_y * g.taps_x, depth = taps * g.channels;
    float sum = 0.0f;
    group = get_global_id(2) % g.groups;
    slice = get_global_id(2) / g.groups;
    if (o >= g.n || k >= depth) return;
    t = k / g.channels;
    c = k % g.channels;
    end = min((slice + 1) * slice_rows, g.pictures * g.rows_y * g.rows_x);
    for (row = slice * slice_rows; row < end; ++row) {
        int from = source_of(&g, row, t);
        if (from >= 0)
            sum += in[g.in_at + from * g.in_pixel + group * g.channels + c]
                * dy[g.out_at + row * g.out_pixel + group * g.n + o];
    }
    partial[((slice * g.groups + group) * depth + k) * g.n + o] = sum;
}
)

/* For GPUs, tiles as in gather_tiled: channels of one tap x outputs, TILE_DEPTH rows per step. */
FINETUNE_LINE FINETUNE_CL(weight_tiled,
__kernel __attribute__((reqd_work_group_size(TILE_GROUP, TILE_GROUP, 1)))
void weight_tiled(__global const float *in, __global const float *dy, __global float *partial,
                  gather g, int slice_rows)
{
    enum { HIGH = TILE_GROUP * TILE_Y, WIDE = TILE_GROUP * TILE_X };
    __local float left[TILE_DEPTH][HIGH];
    __local float right[TILE_DEPTH][WIDE];
    int lx = get_local_id(0), ly = get_local_id(1), item = ly * TILE_GROUP + lx, row, end, i, j;
    int tiles = (g.channels + HIGH - 1) / HIGH, t = get_group_id(1) / tiles;
    int o0 = get_group_id(0) * WIDE, c0 = get_group_id(1) % tiles * HIGH;
    int group = get_global_id(2) % g.groups, slice = get_global_id(2) / g.groups;
    int depth = g.taps_y * g.taps_x * g.channels;
    float sum[TILE_Y][TILE_X] = {{0.0f}};
    end = min((slice + 1) * slice_rows, g.pictures * g.rows_y * g.rows_x);
    for (row = slice * slice_rows; row < end; row += TILE_DEPTH) {
        for (i = item; i < HIGH * TILE_DEPTH; i += TILE_GROUP * TILE_GROUP) {
            int r = row + i / HIGH, c = c0 + i % HIGH, from = -1;
            if (r < end && c < g.channels) from = source_of(&g, r, t);
            left[i / HIGH][i % HIGH] = from < 0 ? 0.0f
                : in[g.in_at + from * g.in_pixel + group * g.channels + c];
        }
        for (i = item; i < WIDE * TILE_DEPTH; i += TILE_GROUP * TILE_GROUP) {
            int r = row + i / WIDE, o = o0 + i % WIDE;
            right[i / WIDE][i % WIDE] = r < end && o < g.n
                ? dy[g.out_at + r * g.out_pixel + group * g.n + o] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        tile_add(sum, left[0] + ly, HIGH, right[0] + lx);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (i = 0; i < TILE_Y; ++i)
        for (j = 0; j < TILE_X; ++j) {
            int c = c0 + ly + TILE_GROUP * i, o = o0 + lx + TILE_GROUP * j;
            if (c < g.channels && o < g.n)
                partial[((slice * g.groups + group) * depth + t * g.channels + c) * g.n + o]
                    = sum[i][j];
        }
}
)

/* For large ones, tiles as in gather_block: 128 (tap, channel) x 128 outputs, 8 rows per step. */
FINETUNE_LINE FINETUNE_CL(weight_block,
float4 read_outputs(const gather *g, __global const float *dy, int group, int row, int end, int o)
{
    return row < end && o < g->n
        ? *(__global const float4 *)(dy + g->out_at + (size_t)row * g->out_pixel + group * g->n + o)
        : (float4)(0.0f);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void weight_block(__global const float *in, __global const float *dy, __global float *partial,
                  gather g, int slice_rows)
{
    __local float4 room[BLOCK_FOURS];
    int item = get_local_id(0), o0 = get_group_id(0) * 128, k0 = get_group_id(1) * 128;
    int group = get_group_id(2) % g.groups, slice = get_group_id(2) / g.groups, side = 0, i, pass;
    int depth = g.taps_y * g.taps_x * g.channels, row = slice * slice_rows + item / 32, step;
    int end = min((slice + 1) * slice_rows, g.pictures * g.rows_y * g.rows_x);
    int k = k0 + item % 32 * 4, o = o0 + item % 32 * 4;
    float8 sum[8] = {0.0f};
    reader r = reader_start(&g, row, k);
    float4 a = row < end ? read_row(&g, in, group, &r) : (float4)(0.0f);
    float4 b = read_outputs(&g, dy, group, row, end, o);
    for (step = slice * slice_rows; step < end; step += 8) {
        __local float4 *left = room + side * LEFT_FOURS;
        __local float4 *right = room + 2 * LEFT_FOURS + side * RIGHT_FOURS;
        left[item / 32 * LEFT_STEP + item % 32] = a;
        right[item / 32 * RIGHT_STEP + item % 32] = b;
        barrier(CLK_LOCAL_MEM_FENCE);
        row += 8;
        reader_descend(&g, &r, 8);
        a = row < end ? read_row(&g, in, group, &r) : (float4)(0.0f);
        b = read_outputs(&g, dy, group, row, end, o);
        block_multiply(sum, left, right, item);
        side = 1 - side;
    }
    partial += (size_t)(slice * g.groups + group) * depth * g.n;
    for (pass = 0; pass < 4; ++pass) {
        block_stage(room, sum, item, pass);
        for (i = item; i < 4096; i += 256) {
            k = k0 + pass * 32 + i / 128;
            o = o0 + i % 128;
            if (k < depth && o < g.n) partial[(size_t)k * g.n + o] = ((__local float *)room)[i];
        }
    }
}
)

/* For processors: 8 channels of one tap x 16 outputs in vector registers. Those beyond the last one
   are computed from their neighbours and not stored. */
FINETUNE_LINE FINETUNE_CL(weight_wide,
__kernel void weight_wide(__global const float *in, __global const float *dy,
                          __global float *partial, gather g, int slice_rows)
{
    int o0 = get_global_id(0) * 16, tiles = (g.channels + 7) / 8, row, end, i, j;
    int t = get_global_id(1) / tiles, c0 = get_global_id(1) % tiles * 8;
    int group = get_global_id(2) % g.groups, slice = get_global_id(2) / g.groups;
    int taps = g.taps_y * g.taps_x, depth = taps * g.channels, shift = 0, last[8];
    int n, y, x;
    float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f, s4 = 0.0f, s5 = 0.0f, s6 = 0.0f, s7 = 0.0f;
    float sums[8][16];
    if (o0 >= g.n || t >= taps) return;
    in += g.in_at;
    dy += g.out_at;
    for (i = 0; i < 8; ++i) last[i] = min(i, g.channels - 1 - c0);
    if (o0 + 16 > g.n) shift = min(o0, o0 + 16 - g.n);
    row = slice * slice_rows;
    end = min(row + slice_rows, g.pictures * g.rows_y * g.rows_x);
    n = row / (g.rows_y * g.rows_x);
    y = row / g.rows_x % g.rows_y;
    x = row % g.rows_x;
    for (; row < end; ++row) {
        int at = source_at(&g, n, y, x, t / g.taps_x, t % g.taps_x);
        __global const float *from = in + (size_t)max(at, 0) * g.in_pixel + group * g.channels + c0;
        float16 d;
        x += 1;
        if (x == g.rows_x) {
            x = 0;
            y = y + 1 == g.rows_y ? 0 : y + 1;
            n += y == 0;
        }
        if (at < 0) continue;
        if (g.n >= 16) d = vload16(0, dy + (size_t)row * g.out_pixel + group * g.n + o0 - shift);
        else {
            for (j = 0; j < 16; ++j)
                sums[0][j] = j < g.n ? dy[(size_t)row * g.out_pixel + group * g.n + j] : 0.0f;
            d = vload16(0, sums[0]);
        }
        s0 += from[last[0]] * d; s1 += from[last[1]] * d; s2 += from[last[2]] * d;
        s3 += from[last[3]] * d; s4 += from[last[4]] * d; s5 += from[last[5]] * d;
        s6 += from[last[6]] * d; s7 += from[last[7]] * d;
    }
    if (g.n < 16) shift = 0;
    vstore16(s0, 0, sums[0]); vstore16(s1, 0, sums[1]); vstore16(s2, 0, sums[2]);
    vstore16(s3, 0, sums[3]); vstore16(s4, 0, sums[4]); vstore16(s5, 0, sums[5]);
    vstore16(s6, 0, sums[6]); vstore16(s7, 0, sums[7]);
    for (i = 0; i < 8 && c0 + i < g.channels; ++i)
        for (j = 0; j < 16 && o0 + j < g.n; ++j)
            partial[((size_t)(slice * g.groups + group) * depth + t * g.channels + c0 + i) * g.n
                    + o0 + j] = sums[i][j + shift];
}
)

/* dweight[g, o][c][t] += the slices in order; count = groups * taps * channels * n */
FINETUNE_LINE FINETUNE_CL(weight_sum,
__kernel void weight_sum(__global const float *partial, __global float *dweight, int count,
                         int slices, int taps, int channels, int n)
{
    int i = get_global_id(0), o = i % n, k = i / n % (taps * channels), slice;
    int g = i / n / (taps * channels), t = k / channels, c = k % channels;
    float sum = 0.0f;
    if (i >= count) return;
    for (slice = 0; slice < slices; ++slice) sum += partial[slice * count + i];
    dweight[((g * n + o) * channels + c) * taps + t] += sum;
}
)

/* partial[block][n] = sums over blocks of rows of x [rows, n], which begins at `at`; then to[n] +=
   these in order, from partial's block `first` on */
FINETUNE_LINE FINETUNE_CL(column_sums,
__kernel void column_sums(__global const float *x, __global float *partial, int at, int rows,
                          int n, int block)
{
    int i = get_global_id(0), b = get_global_id(1), row, end = min((b + 1) * block, rows);
    float sum = 0.0f;
    if (i >= n) return;
    for (row = b * block; row < end; ++row) sum += x[at + row * n + i];
    partial[b * n + i] = sum;
}

__kernel void column_sums_end(__global const float *partial, __global float *to, int first,
                              int blocks, int n)
{
    int i = get_global_id(0), b;
    float sum = 0.0f;
    if (i >= n) return;
    for (b = first; b < first + blocks; ++b) sum += partial[b * n + i];
    to[i] += sum;
}
)

/* ---- Products on the tensor cores of NVIDIA's GPUs, from compute capability 8.0 on, for
   ft_desc.precision "tf32" and "bf16"; only a program for such a device has them. The factors are
   rounded to 11 or 8 bits, the sums are float32. 32 work-items together compute one product of a
   16 x 8 matrix; each holds some numbers of it. A word is a tf32 number, or two bf16 numbers that
   are neighbours in depth. Item `lane` has, by the manual of PTX, "Matrix Fragments for
   mma.m16n8k8" and m16n8k16:
       left    x, y, z, w: rows lane / 4 and that + 8, at word lane % 4, then at that + 4
       right   x, y: words lane % 4 and that + 4, column lane / 4
       sum     x, y: row lane / 4, columns lane % 4 * 2 and that + 1; z, w: the same of row + 8
   ---- */
#ifdef FINETUNE_MMA
#ifdef FINETUNE_EMULATE_MMA
/* For tests: the same fragments, exchanged in local memory, on any device. */
FINETUNE_LINE FINETUNE_CL(mma,
enum { MMA_ROOM = 256 * 6 };

uint to_tf32(float x) { return x != x ? as_uint(x) : (as_uint(x) + 0x1000u) & 0xFFFFE000u; }

uint to_bf16(float x)
{
    uint bits = as_uint(x);
    return x != x ? bits >> 16 | 0x40u : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}

uint to_bf16_pair(float first, float second) { return to_bf16(first) | to_bf16(second) << 16; }

/* The word of row i, column k of the left, or of row k, column j of the right matrix. */
uint mma_left(__local const uint *all, int i, int k)
{
    return all[(i % 8 * 4 + k % 4) * 6 + i / 8 + k / 4 * 2];
}

uint mma_right(__local const uint *all, int k, int j)
{
    return all[(j * 4 + k % 4) * 6 + 4 + k / 4];
}

float mma_sum(__local const uint *all, int i, int j, int in_pairs, float sum)
{
    int k;
    for (k = 0; k < 8; ++k) {
        uint a = mma_left(all, i, k), b = mma_right(all, k, j);
        if (in_pairs) sum += as_float(a << 16) * as_float(b << 16)
            + as_float(a & 0xFFFF0000u) * as_float(b & 0xFFFF0000u);
        else sum += as_float(a) * as_float(b);
    }
    return sum;
}

float4 mma_by_exchange(__local uint *exchange, float4 sum, uint4 left, uint2 right, int in_pairs)
{
    int item = get_local_id(0), i = item % 32 / 4, j = item % 4 * 2;
    __local uint *all = exchange + item / 32 * 192;
    barrier(CLK_LOCAL_MEM_FENCE);
    exchange[item * 6] = left.x;
    exchange[item * 6 + 1] = left.y;
    exchange[item * 6 + 2] = left.z;
    exchange[item * 6 + 3] = left.w;
    exchange[item * 6 + 4] = right.x;
    exchange[item * 6 + 5] = right.y;
    barrier(CLK_LOCAL_MEM_FENCE);
    return (float4)(mma_sum(all, i, j, in_pairs, sum.x), mma_sum(all, i, j + 1, in_pairs, sum.y),
                    mma_sum(all, i + 8, j, in_pairs, sum.z),
                    mma_sum(all, i + 8, j + 1, in_pairs, sum.w));
}

float4 mma_tf32_16x8x8(__local uint *exchange, float4 sum, uint4 left, uint2 right)
{
    return mma_by_exchange(exchange, sum, left, right, 0);
}

float4 mma_bf16_16x8x16(__local uint *exchange, float4 sum, uint4 left, uint2 right)
{
    return mma_by_exchange(exchange, sum, left, right, 1);
}
)
#else
FINETUNE_LINE FINETUNE_CL(mma,
enum { MMA_ROOM = 1 }; /* only the emulation uses it */

/* Rounds to the nearest, halves away from zero. */
uint to_tf32(float x)
{
    uint bits;
    __asm__("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

/* Rounds to the nearest, halves to even; the first is the lower half. */
uint to_bf16_pair(float first, float second)
{
    uint bits;
    __asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

float4 mma_tf32_16x8x8(__local uint *exchange, float4 sum, uint4 left, uint2 right)
{
    float x = sum.x, y = sum.y, z = sum.z, w = sum.w;
    (void)exchange;
    __asm__ volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
                     : "r"(left.x), "r"(left.y), "r"(left.z), "r"(left.w), "r"(right.x),
                       "r"(right.y));
    return (float4)(x, y, z, w);
}

float4 mma_bf16_16x8x16(__local uint *exchange, float4 sum, uint4 left, uint2 right)
{
    float x = sum.x, y = sum.y, z = sum.z, w = sum.w;
    (void)exchange;
    __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(x), "+f"(y), "+f"(z), "+f"(w)
                     : "r"(left.x), "r"(left.y), "r"(left.z), "r"(left.w), "r"(right.x),
                       "r"(right.y));
    return (float4)(x, y, z, w);
}
)
#endif

/* 256 work-items, 8 times 32, compute a tile of 128 x 128 numbers in steps of 16 in depth: 16 words
   in tf32, 8 in bf16. Each 32 compute 64 x 32 numbers, 4 x 4 products of 16 x 8. As in
   gather_block, registers load the next step meanwhile. The lengths of rows in local memory are
   such that the 32 read from 32 banks. */
FINETUNE_LINE FINETUNE_CL(tensor,
enum { TF32, BF16, TENSOR_COLUMNS = 136, STAGE_COLUMNS = 136,
       TF32_ROW = 20, BF16_ROW = 12, TF32_LEFT = 128 * TF32_ROW, BF16_LEFT = 128 * BF16_ROW,
       TF32_RIGHT = 16 * TENSOR_COLUMNS, BF16_RIGHT = 8 * TENSOR_COLUMNS,
       TF32_ROOM = 2 * (TF32_LEFT + TF32_RIGHT), BF16_ROOM = 2 * (BF16_LEFT + BF16_RIGHT) };

typedef struct fours { float4 first, second; } fours;

/* Words of a row, 8 steps of depth side by side. */
void tensor_put_row(__local uint *to, fours v, int type)
{
    if (type == TF32) {
        *(__local uint4 *)to = (uint4)(to_tf32(v.first.x), to_tf32(v.first.y), to_tf32(v.first.z),
                                       to_tf32(v.first.w));
        *(__local uint4 *)(to + 4) = (uint4)(to_tf32(v.second.x), to_tf32(v.second.y),
                                             to_tf32(v.second.z), to_tf32(v.second.w));
    } else
        *(__local uint4 *)to = (uint4)(to_bf16_pair(v.first.x, v.first.y),
                                       to_bf16_pair(v.first.z, v.first.w),
                                       to_bf16_pair(v.second.x, v.second.y),
                                       to_bf16_pair(v.second.z, v.second.w));
}

/* Four columns of the two steps of depth that tensor_depth names. */
void tensor_put_columns(__local uint *to, fours v, int item, int type)
{
    to += item / 32 * TENSOR_COLUMNS + item % 32 * 4;
    if (type == TF32) {
        *(__local uint4 *)to = (uint4)(to_tf32(v.first.x), to_tf32(v.first.y), to_tf32(v.first.z),
                                       to_tf32(v.first.w));
        *(__local uint4 *)(to + 8 * TENSOR_COLUMNS)
            = (uint4)(to_tf32(v.second.x), to_tf32(v.second.y), to_tf32(v.second.z),
                      to_tf32(v.second.w));
    } else
        *(__local uint4 *)to = (uint4)(to_bf16_pair(v.first.x, v.second.x),
                                       to_bf16_pair(v.first.y, v.second.y),
                                       to_bf16_pair(v.first.z, v.second.z),
                                       to_bf16_pair(v.first.w, v.second.w));
}

int tensor_depth(int item, int type) { return type == TF32 ? item / 32 : item / 32 * 2; }
int tensor_second(int type) { return type == TF32 ? 8 : 1; }
)

FINETUNE_LINE FINETUNE_CL(tensor_multiply,
uint4 tensor_left(__local const uint *from, int row_step, int word_step)
{
    return (uint4)(from[0], from[8 * row_step], from[4 * word_step],
                   from[8 * row_step + 4 * word_step]);
}

uint2 tensor_right(__local const uint *from)
{
    return (uint2)(from[0], from[4 * TENSOR_COLUMNS]);
}

/* Sums have separate names or constant indices, so that they stay in registers even if a compiler
   does not unroll. */
__attribute__((always_inline))
void tensor_line(__local uint *exchange, float4 *sum, uint4 a, uint2 b0, uint2 b1, uint2 b2,
                 uint2 b3, int type)
{
    if (type == TF32) {
        sum[0] = mma_tf32_16x8x8(exchange, sum[0], a, b0);
        sum[1] = mma_tf32_16x8x8(exchange, sum[1], a, b1);
        sum[2] = mma_tf32_16x8x8(exchange, sum[2], a, b2);
        sum[3] = mma_tf32_16x8x8(exchange, sum[3], a, b3);
    } else {
        sum[0] = mma_bf16_16x8x16(exchange, sum[0], a, b0);
        sum[1] = mma_bf16_16x8x16(exchange, sum[1], a, b1);
        sum[2] = mma_bf16_16x8x16(exchange, sum[2], a, b2);
        sum[3] = mma_bf16_16x8x16(exchange, sum[3], a, b3);
    }
}

/* 8 words deep: left [row][word] with the distances given, right [word][column]. */
__attribute__((always_inline))
void tensor_add(__local uint *exchange, float4 *sum, __local const uint *left, int row_step,
                int word_step, __local const uint *right, int type)
{
    int item = get_local_id(0), lane = item % 32;
    uint4 a0, a1, a2, a3;
    uint2 b0, b1, b2, b3;
    left += (item / 128 * 64 + lane / 4) * row_step + lane % 4 * word_step;
    right += item / 32 % 4 * 32 + lane / 4 + lane % 4 * TENSOR_COLUMNS;
    a0 = tensor_left(left, row_step, word_step);
    a1 = tensor_left(left + 16 * row_step, row_step, word_step);
    a2 = tensor_left(left + 32 * row_step, row_step, word_step);
    a3 = tensor_left(left + 48 * row_step, row_step, word_step);
    b0 = tensor_right(right);
    b1 = tensor_right(right + 8);
    b2 = tensor_right(right + 16);
    b3 = tensor_right(right + 24);
    tensor_line(exchange, sum, a0, b0, b1, b2, b3, type);
    tensor_line(exchange, sum + 4, a1, b0, b1, b2, b3, type);
    tensor_line(exchange, sum + 8, a2, b0, b1, b2, b3, type);
    tensor_line(exchange, sum + 12, a3, b0, b1, b2, b3, type);
}

__attribute__((always_inline))
void tensor_step(__local uint *exchange, float4 *sum, __local const uint *left, int row_step,
                 int word_step, __local const uint *right, int type)
{
    tensor_add(exchange, sum, left, row_step, word_step, right, type);
    if (type == TF32)
        tensor_add(exchange, sum, left + 8 * word_step, row_step, word_step,
                   right + 8 * TENSOR_COLUMNS, type);
}

void tensor_stage_one(__local float *to, float4 sum)
{
    *(__local float2 *)to = sum.lo;
    *(__local float2 *)(to + 8 * STAGE_COLUMNS) = sum.hi;
}

/* Like block_stage: copies lines of the tile to local memory, [32][STAGE_COLUMNS]: of each half of
   the tile the 16 lines of products in `sum`; tensor_row tells which lines of the tile they are. */
__attribute__((always_inline))
void tensor_stage(__local float *room, const float4 *sum)
{
    int item = get_local_id(0), lane = item % 32;
    __local float *to = room + (item / 128 * 16 + lane / 4) * STAGE_COLUMNS + item / 32 % 4 * 32
        + lane % 4 * 2;
    barrier(CLK_LOCAL_MEM_FENCE);
    tensor_stage_one(to, sum[0]);
    tensor_stage_one(to + 8, sum[1]);
    tensor_stage_one(to + 16, sum[2]);
    tensor_stage_one(to + 24, sum[3]);
    barrier(CLK_LOCAL_MEM_FENCE);
}

int tensor_row(int line, int part) { return line / 16 * 64 + part * 16 + line % 16; }
)

FINETUNE_LINE FINETUNE_CL(gather_tensor,
/* Reads eight steps of depth of a row; moves the reader to the next sixteen. */
fours tensor_read_row(const gather *g, __global const float *in, int group, int row, reader *r)
{
    fours v;
    v.first = read_row(g, in, group, r);
    reader_move(g, r, row, 4);
    v.second = read_row(g, in, group, r);
    reader_move(g, r, row, 12);
    return v;
}

fours tensor_read_packed(const gather *g, __global const float *packed, int k, int depth,
                         int column, int type)
{
    fours v;
    v.first = read_packed(g, packed, k, depth, column);
    v.second = read_packed(g, packed, k + tensor_second(type), depth, column);
    return v;
}

__attribute__((always_inline))
void tensor_out(const gather *g, __global const float *bias, __global float *out,
                __local float *room, const float4 *sum, int part)
{
    int i;
    tensor_stage(room, sum);
    for (i = get_local_id(0); i < 4096; i += 256) {
        int row = get_group_id(1) * 128 + tensor_row(i / 128, part);
        int n = get_group_id(0) * 128 + i % 128;
        if (row < g->pictures * g->rows_y * g->rows_x && n < g->n)
            put(g, bias, out, row, get_group_id(2), n, room[i / 128 * STAGE_COLUMNS + i % 128]);
    }
}

__attribute__((always_inline))
void gather_tensor(__global const float *in, __global const float *packed,
                   __global const float *bias, __global float *out, const gather *g,
                   __local uint *room, __local uint *exchange, int type)
{
    int item = get_local_id(0), n0 = get_group_id(0) * 128, row0 = get_group_id(1) * 128;
    int group = get_group_id(2), depth = g->taps_y * g->taps_x * g->channels, k, side = 0;
    int column = n0 + item % 32 * 4, deep = tensor_depth(item, type);
    int row_step = type == TF32 ? TF32_ROW : BF16_ROW;
    int left_words = type == TF32 ? TF32_LEFT : BF16_LEFT;
    int right_words = type == TF32 ? TF32_RIGHT : BF16_RIGHT;
    reader r = reader_start(g, row0 + item / 2, item % 2 * 8);
    float4 sum[16] = {0.0f};
    fours a = tensor_read_row(g, in, group, row0 + item / 2, &r), b;
    packed += (size_t)group * depth * g->wide;
    b = tensor_read_packed(g, packed, deep, depth, column, type);
    for (k = 16; k < depth + 16; k += 16) {
        __local uint *left = room + side * left_words;
        __local uint *right = room + 2 * left_words + side * right_words;
        tensor_put_row(left + item / 2 * row_step + item % 2 * (type == TF32 ? 8 : 4), a, type);
        tensor_put_columns(right, b, item, type);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k < depth) {
            a = tensor_read_row(g, in, group, row0 + item / 2, &r);
            b = tensor_read_packed(g, packed, k + deep, depth, column, type);
        }
        tensor_step(exchange, sum, left, row_step, 1, right, type);
        side = 1 - side;
    }
    tensor_out(g, bias, out, (__local float *)room, sum, 0);
    tensor_out(g, bias, out, (__local float *)room, sum + 4, 1);
    tensor_out(g, bias, out, (__local float *)room, sum + 8, 2);
    tensor_out(g, bias, out, (__local float *)room, sum + 12, 3);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void gather_tf32(__global const float *in, __global const float *packed,
                 __global const float *bias, __global float *out, gather g)
{
    __local uint4 room[TF32_ROOM / 4];
    __local uint exchange[MMA_ROOM];
    gather_tensor(in, packed, bias, out, &g, (__local uint *)room, exchange, TF32);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void gather_bf16(__global const float *in, __global const float *packed,
                 __global const float *bias, __global float *out, gather g)
{
    __local uint4 room[BF16_ROOM / 4];
    __local uint exchange[MMA_ROOM];
    gather_tensor(in, packed, bias, out, &g, (__local uint *)room, exchange, BF16);
}
)

/* The weight's gradient: left [row of pixels][tap, channel], right [row of pixels][output]. */
FINETUNE_LINE FINETUNE_CL(weight_tensor,
/* Reads rows r and r + tensor_second; moves the reader 16 rows down. */
fours tensor_read_pixels(const gather *g, __global const float *in, int group, int row, int end,
                         reader *r, int type)
{
    int second = tensor_second(type);
    fours v;
    v.first = row < end ? read_row(g, in, group, r) : (float4)(0.0f);
    reader_descend(g, r, second);
    v.second = row + second < end ? read_row(g, in, group, r) : (float4)(0.0f);
    reader_descend(g, r, 16 - second);
    return v;
}

fours tensor_read_outputs(const gather *g, __global const float *dy, int group, int row, int end,
                          int o, int type)
{
    fours v;
    v.first = read_outputs(g, dy, group, row, end, o);
    v.second = read_outputs(g, dy, group, row + tensor_second(type), end, o);
    return v;
}

__attribute__((always_inline))
void tensor_weight_out(const gather *g, __global float *partial, __local float *room,
                       const float4 *sum, int part)
{
    int i;
    tensor_stage(room, sum);
    for (i = get_local_id(0); i < 4096; i += 256) {
        int k = get_group_id(1) * 128 + tensor_row(i / 128, part);
        int o = get_group_id(0) * 128 + i % 128;
        if (k < g->taps_y * g->taps_x * g->channels && o < g->n)
            partial[(size_t)k * g->n + o] = room[i / 128 * STAGE_COLUMNS + i % 128];
    }
}

__attribute__((always_inline))
void weight_tensor(__global const float *in, __global const float *dy, __global float *partial,
                   const gather *g, int slice_rows, __local uint *room, __local uint *exchange,
                   int type)
{
    int item = get_local_id(0), o0 = get_group_id(0) * 128, k0 = get_group_id(1) * 128;
    int group = get_group_id(2) % g->groups, slice = get_group_id(2) / g->groups, side = 0;
    int depth = g->taps_y * g->taps_x * g->channels, step;
    int row = slice * slice_rows + tensor_depth(item, type);
    int end = min((slice + 1) * slice_rows, g->pictures * g->rows_y * g->rows_x);
    int k = k0 + item % 32 * 4, o = o0 + item % 32 * 4;
    int words = type == TF32 ? TF32_RIGHT : BF16_RIGHT;
    reader r = reader_start(g, row, k);
    float4 sum[16] = {0.0f};
    fours a = tensor_read_pixels(g, in, group, row, end, &r, type);
    fours b = tensor_read_outputs(g, dy, group, row, end, o, type);
    for (step = slice * slice_rows; step < end; step += 16) {
        __local uint *left = room + side * 2 * words, *right = left + words;
        tensor_put_columns(left, a, item, type);
        tensor_put_columns(right, b, item, type);
        barrier(CLK_LOCAL_MEM_FENCE);
        row += 16;
        a = tensor_read_pixels(g, in, group, row, end, &r, type);
        b = tensor_read_outputs(g, dy, group, row, end, o, type);
        tensor_step(exchange, sum, left, 1, TENSOR_COLUMNS, right, type);
        side = 1 - side;
    }
    partial += (size_t)(slice * g->groups + group) * depth * g->n;
    tensor_weight_out(g, partial, (__local float *)room, sum, 0);
    tensor_weight_out(g, partial, (__local float *)room, sum + 4, 1);
    tensor_weight_out(g, partial, (__local float *)room, sum + 8, 2);
    tensor_weight_out(g, partial, (__local float *)room, sum + 12, 3);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void weight_tf32(__global const float *in, __global const float *dy, __global float *partial,
                 gather g, int slice_rows)
{
    __local uint4 room[TF32_RIGHT]; /* two pairs of pieces */
    __local uint exchange[MMA_ROOM];
    weight_tensor(in, dy, partial, &g, slice_rows, (__local uint *)room, exchange, TF32);
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void weight_bf16(__global const float *in, __global const float *dy, __global float *partial,
                 gather g, int slice_rows)
{
    __local uint4 room[BF16_RIGHT];
    __local uint exchange[MMA_ROOM];
    weight_tensor(in, dy, partial, &g, slice_rows, (__local uint *)room, exchange, BF16);
}
)
#endif

/* ---- Winograd's convolution, F(4x4, 3x3), as in kernels/winograd: 3 x 3 kernels with a stride of
   1. Inputs and weights are transformed, a gathering kernel computes 36 products of matrices, one
   per group, and the outputs are transformed back. v is [tile][36][channels], m [tile][36][n]. The
   input's gradient is the same of dy, with the kernel's taps in reverse. The six numbers of a line
   are separate variables, so that they stay in registers even if a compiler does not unroll.
   ---- */
FINETUNE_LINE FINETUNE_CL(winograd,
typedef struct winograd {
    int height, width, out_height, out_width, top, left, channels, n;
    int across, down, first, count; /* tiles per line, lines of tiles; the tiles of this run */
    int has_bias, add, op;
    float a;
} winograd;

/* B^T d */
void winograd_b(float d0, float d1, float d2, float d3, float d4, float d5, float *to, int step)
{
    float even = d4 - 4.0f * d2, odd = d3 - 4.0f * d1, even2 = d4 - d2, odd2 = 2.0f * (d3 - d1);
    to[0] = 4.0f * d0 - 5.0f * d2 + d4;
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = even2 + odd2;
    to[4 * step] = even2 - odd2;
    to[5 * step] = 4.0f * d1 - 5.0f * d3 + d5;
}

/* G g */
void winograd_g(float g0, float g1, float g2, float *to, int step)
{
    float outer = (g0 + g2) * (1.0f / 6), middle = g1 * (1.0f / 6);
    float outer2 = g0 * (1.0f / 24) + g2 * (1.0f / 6), middle2 = g1 * (1.0f / 12);
    to[0] = g0 * 0.25f;
    to[step] = -outer - middle;
    to[2 * step] = middle - outer;
    to[3 * step] = outer2 + middle2;
    to[4 * step] = outer2 - middle2;
    to[5 * step] = g2;
}

/* A^T m */
void winograd_a(float m0, float m1, float m2, float m3, float m4, float m5, float *to, int step)
{
    float sum = m1 + m2, rest = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;
    to[0] = m0 + sum + sum2;
    to[step] = rest + 2.0f * rest2;
    to[2 * step] = sum + 4.0f * sum2;
    to[3 * step] = rest + 8.0f * rest2 + m5;
}

/* Writes six neighbouring numbers to their places among the 36. */
void winograd_out(const float *line, __global float *to, size_t step)
{
    to[0] = line[0];
    to[step] = line[1];
    to[2 * step] = line[2];
    to[3 * step] = line[3];
    to[4 * step] = line[4];
    to[5 * step] = line[5];
}
)

FINETUNE_LINE FINETUNE_CL(winograd_input,
float winograd_pixel(const winograd *w, __global const float *in, int y, int x)
{
    return y < 0 || y >= w->height ? 0.0f : in[((size_t)y * w->width + x) * w->channels];
}

void winograd_column(const winograd *w, __global const float *in, int y, int x, float *to)
{
    if (x < 0 || x >= w->width) y = w->height; /* all of it is outside */
    winograd_b(winograd_pixel(w, in, y, x), winograd_pixel(w, in, y + 1, x),
               winograd_pixel(w, in, y + 2, x), winograd_pixel(w, in, y + 3, x),
               winograd_pixel(w, in, y + 4, x), winograd_pixel(w, in, y + 5, x), to, 6);
}

void winograd_row(const float *t, __global float *v, size_t step)
{
    float line[6];
    winograd_b(t[0], t[1], t[2], t[3], t[4], t[5], line, 1);
    winograd_out(line, v, step);
}

/* A work-item transforms one channel of a tile: v = B^T d B. */
__kernel void winograd_input(__global const float *in, __global float *v, winograd w)
{
    int i = get_global_id(0), c = i % w.channels, tile = i / w.channels, at = w.first + tile, y, x;
    size_t step = w.channels;
    float t[36];
    if (tile >= w.count) return;
    y = at / w.across % w.down * 4 - w.top;
    x = at % w.across * 4 - w.left;
    in += (size_t)(at / w.across / w.down) * w.height * w.width * w.channels + c;
    winograd_column(&w, in, y, x, t);
    winograd_column(&w, in, y, x + 1, t + 1);
    winograd_column(&w, in, y, x + 2, t + 2);
    winograd_column(&w, in, y, x + 3, t + 3);
    winograd_column(&w, in, y, x + 4, t + 4);
    winograd_column(&w, in, y, x + 5, t + 5);
    v += (size_t)tile * 36 * step + c;
    winograd_row(t, v, step);
    winograd_row(t + 6, v + 6 * step, step);
    winograd_row(t + 12, v + 12 * step, step);
    winograd_row(t + 18, v + 18 * step, step);
    winograd_row(t + 24, v + 24 * step, step);
    winograd_row(t + 30, v + 30 * step, step);
}
)

/* packed[36][c][n] = G g G^T of weight[n * n_step + c * c_step + tap], columns padded with zeros to
   `wide`; turned: the taps in reverse */
FINETUNE_LINE FINETUNE_CL(winograd_weight,
void winograd_weight_row(const float *t, __global float *to, size_t step)
{
    float line[6];
    winograd_g(t[0], t[1], t[2], line, 1);
    winograd_out(line, to, step);
}

__kernel void winograd_weight(__global const float *weight, __global float *packed, int channels,
                              int n, int wide, int n_step, int c_step, int turned)
{
    int i = get_global_id(0), column = i % wide, c = i / wide, d = turned ? -1 : 1;
    size_t step = (size_t)channels * wide;
    float t[18];
    if (c >= channels) return;
    packed += (size_t)c * wide + column;
    if (column < n) {
        __global const float *g = weight + column * n_step + c * c_step + (turned ? 8 : 0);
        winograd_g(g[0], g[3 * d], g[6 * d], t, 3);
        winograd_g(g[d], g[4 * d], g[7 * d], t + 1, 3);
        winograd_g(g[2 * d], g[5 * d], g[8 * d], t + 2, 3);
    } else {
        winograd_g(0.0f, 0.0f, 0.0f, t, 3);
        winograd_g(0.0f, 0.0f, 0.0f, t + 1, 3);
        winograd_g(0.0f, 0.0f, 0.0f, t + 2, 3);
    }
    winograd_weight_row(t, packed, step);
    winograd_weight_row(t + 3, packed + 6 * step, step);
    winograd_weight_row(t + 6, packed + 12 * step, step);
    winograd_weight_row(t + 9, packed + 18 * step, step);
    winograd_weight_row(t + 12, packed + 24 * step, step);
    winograd_weight_row(t + 15, packed + 30 * step, step);
}
)

/* y = f(A^T m A + bias), or y += that; one output channel of a tile */
FINETUNE_LINE FINETUNE_CL(winograd_output,
void winograd_up(__global const float *m, size_t step, float *to)
{
    winograd_a(m[0], m[6 * step], m[12 * step], m[18 * step], m[24 * step], m[30 * step], to, 6);
}

__attribute__((always_inline))
void winograd_put(const winograd *w, __global float *out, int y, int x, float sum)
{
    __global float *to = out + ((size_t)y * w->out_width + x) * w->n;
    if (x >= w->out_width) return;
    if (w->op >= 0) sum = activate(w->op, w->a, sum);
    *to = w->add ? *to + sum : sum;
}

__attribute__((always_inline))
void winograd_line(const winograd *w, __global float *out, int y, int x, float bias, const float *t)
{
    float line[4];
    if (y >= w->out_height) return;
    winograd_a(t[0], t[1], t[2], t[3], t[4], t[5], line, 1);
    winograd_put(w, out, y, x, line[0] + bias);
    winograd_put(w, out, y, x + 1, line[1] + bias);
    winograd_put(w, out, y, x + 2, line[2] + bias);
    winograd_put(w, out, y, x + 3, line[3] + bias);
}

__kernel void winograd_output(__global const float *m, __global const float *bias,
                              __global float *out, winograd w)
{
    int i = get_global_id(0), n = i % w.n, tile = i / w.n, at = w.first + tile, y, x;
    float t[24], b = w.has_bias ? bias[n] : 0.0f;
    if (tile >= w.count) return;
    y = at / w.across % w.down * 4;
    x = at % w.across * 4;
    m += (size_t)tile * 36 * w.n + n;
    out += (size_t)(at / w.across / w.down) * w.out_height * w.out_width * w.n + n;
    winograd_up(m, w.n, t);
    winograd_up(m + w.n, w.n, t + 1);
    winograd_up(m + 2 * (size_t)w.n, w.n, t + 2);
    winograd_up(m + 3 * (size_t)w.n, w.n, t + 3);
    winograd_up(m + 4 * (size_t)w.n, w.n, t + 4);
    winograd_up(m + 5 * (size_t)w.n, w.n, t + 5);
    winograd_line(&w, out, y, x, b, t);
    winograd_line(&w, out, y + 1, x, b, t + 6);
    winograd_line(&w, out, y + 2, x, b, t + 12);
    winograd_line(&w, out, y + 3, x, b, t + 18);
}
)

/* ---- Depthwise convolution: output channel o reads input channel o / times alone; weight
   [o][1][t]. One work-item per number, [channel, pixel]: those side by side read the same tap of
   neighbouring channels. ---- */

FINETUNE_LINE FINETUNE_CL(depthwise_forward,
__kernel void depthwise_forward(__global const float *x, __global const float *weight,
                                __global const float *bias, __global float *y, gather g)
{
    int o = get_global_id(0), row = get_global_id(1), plane = g.rows_y * g.rows_x, c = o / g.n;
    int n = row / plane, at_y = row % plane / g.rows_x, at_x = row % g.rows_x, ty, tx;
    float sum = 0.0f;
    if (o >= g.out_pixel || n >= g.pictures) return;
    weight += o * g.taps_y * g.taps_x;
    for (ty = 0; ty < g.taps_y; ++ty)
        for (tx = 0; tx < g.taps_x; ++tx) {
            int from = source_at(&g, n, at_y, at_x, ty, tx);
            if (from >= 0) sum += x[from * g.in_pixel + c] * weight[ty * g.taps_x + tx];
        }
    if (g.has_bias) sum += bias[o];
    y[row * g.out_pixel + o] = g.op >= 0 ? activate(g.op, g.a, sum) : sum;
}
)

/* Here `in` is dy, and a row is a pixel of dx. */
FINETUNE_LINE FINETUNE_CL(depthwise_input,
__kernel void depthwise_input(__global const float *dy, __global const float *weight,
                              __global float *dx, gather g)
{
    int c = get_global_id(0), row = get_global_id(1), plane = g.rows_y * g.rows_x, ty, tx, j;
    int n = row / plane, y = row % plane / g.rows_x, x = row % g.rows_x;
    int taps = g.taps_y * g.taps_x, to = row * g.out_pixel + c;
    float sum = 0.0f;
    if (c >= g.out_pixel || n >= g.pictures) return;
    weight += c * g.channels * taps;
    for (ty = 0; ty < g.taps_y; ++ty)
        for (tx = 0; tx < g.taps_x; ++tx) {
            int from = source_at(&g, n, y, x, ty, tx);
            for (j = 0; from >= 0 && j < g.channels; ++j)
                sum += dy[from * g.in_pixel + c * g.channels + j]
                    * weight[j * taps + ty * g.taps_x + tx];
        }
    dx[to] = g.add ? dx[to] + sum : sum;
}
)

/* partial[slice][t][o], summed by weight_sum */
FINETUNE_LINE FINETUNE_CL(depthwise_weight,
__kernel void depthwise_weight(__global const float *x, __global const float *dy,
                               __global float *partial, gather g, int slice_rows)
{
    int o = get_global_id(0), t = get_global_id(1), slice = get_global_id(2);
    int outputs = g.out_pixel, c = o / g.n, ty = t / g.taps_x, tx = t % g.taps_x;
    int row = slice * slice_rows, end = min(row + slice_rows, g.pictures * g.rows_y * g.rows_x);
    int n = row / (g.rows_y * g.rows_x), at_y = row / g.rows_x % g.rows_y, at_x = row % g.rows_x;
    float sum = 0.0f;
    if (o >= outputs) return;
    for (; row < end; ++row) {
        int from = source_at(&g, n, at_y, at_x, ty, tx);
        if (from >= 0) sum += x[from * g.in_pixel + c] * dy[row * outputs + o];
        at_x += 1;
        if (at_x == g.rows_x) {
            at_x = 0;
            at_y = at_y + 1 == g.rows_y ? 0 : at_y + 1;
            n += at_y == 0;
        }
    }
    partial[(slice * g.taps_y * g.taps_x + t) * outputs + o] = sum;
}
)

/* ---- Batch norm over x [rows, channels], as in operators/batch_norm: statistics of blocks of
   rows, then of all blocks in order, then a pass over the numbers. ---- */

/* blocks[b][0][c] = the mean of a block's rows, blocks[b][1][c] = the sum of (x - mean)^2 */
FINETUNE_LINE FINETUNE_CL(norm_block,
__kernel void norm_block(__global const float *x, __global float *blocks, int rows, int channels,
                         int block)
{
    int c = get_global_id(0), b = get_global_id(1), row, end = min((b + 1) * block, rows);
    float sum = 0.0f, squares = 0.0f, mean;
    if (c >= channels) return;
    for (row = b * block; row < end; ++row) sum += x[row * channels + c];
    mean = sum / (float)(end - b * block);
    for (row = b * block; row < end; ++row) {
        float d = x[row * channels + c] - mean;
        squares += d * d;
    }
    blocks[2 * b * channels + c] = mean;
    blocks[(2 * b + 1) * channels + c] = squares;
}
)

/* saved = mean and 1 / sqrt(var + eps) per channel: the batch's in training, which also updates the
   running ones, else the running ones. Blocks are merged as in Chan, Golub and LeVeque (1979). */
FINETUNE_LINE FINETUNE_CL(norm_statistics,
__kernel void norm_statistics(__global const float *blocks, __global float *saved,
                              __global float *running_mean, __global float *running_var, int rows,
                              int channels, int block, int training, float momentum, float eps)
{
    int c = get_global_id(0), b, count = (rows + block - 1) / block;
    float mean = 0.0f, squares = 0.0f, before = 0.0f, var;
    if (c >= channels) return;
    for (b = 0; training && b < count; ++b) {
        float more = (float)(min((b + 1) * block, rows) - b * block);
        float apart = blocks[2 * b * channels + c] - mean;
        squares += blocks[(2 * b + 1) * channels + c]
            + apart * apart * before * more / (before + more);
        mean += apart * more / (before + more);
        before += more;
    }
    var = squares / before;
    if (!training) {
        mean = running_mean[c];
        var = running_var[c];
    } else if (fabs(mean) < 1e30f && var < 1e30f) {
        running_mean[c] = (1.0f - momentum) * running_mean[c] + momentum * mean;
        if (rows > 1)
            running_var[c] = (1.0f - momentum) * running_var[c]
                + momentum * (squares / (float)(rows - 1));
    }
    saved[c] = mean;
    saved[channels + c] = 1.0f / sqrt(var + eps);
}
)

/* y = f((x - mean) * inverse * weight + bias) */
FINETUNE_LINE FINETUNE_CL(norm_apply,
float norm_value(float x, __global const float *saved, __global const float *weight,
                 __global const float *bias, int channels, int c)
{
    return (x - saved[c]) * (saved[channels + c] * weight[c]) + bias[c];
}

__kernel void norm_apply(__global const float *x, __global const float *saved,
                         __global const float *weight, __global const float *bias,
                         __global float *y, int count, int channels, int op, float a)
{
    int i = get_global_id(0);
    if (i >= count) return;
    y[i] = activate(op, a, norm_value(x[i], saved, weight, bias, channels, i % channels));
}
)

/* dy is 0 where a fused relu or relu6 was flat, which x tells. */
FINETUNE_LINE FINETUNE_CL(norm_sums,
float norm_dy(float dy, float y, int op)
{
    if (op == ACTIVATION_relu || op == ACTIVATION_relu6) {
        if (!(y > 0.0f)) return 0.0f;
        if (op == ACTIVATION_relu6 && !(y < 6.0f)) return 0.0f;
    }
    return dy;
}

/* blocks[b][0][c] = sum of dy, blocks[b][1][c] = sum of dy (x - mean) */
__kernel void norm_sums(__global const float *x, __global const float *dy,
                        __global const float *saved, __global const float *weight,
                        __global const float *bias, __global float *blocks, int rows, int channels,
                        int block, int op)
{
    int c = get_global_id(0), b = get_global_id(1), row, end = min((b + 1) * block, rows);
    float sum = 0.0f, products = 0.0f;
    if (c >= channels) return;
    for (row = b * block; row < end; ++row) {
        float v = x[row * channels + c];
        float d = norm_dy(dy[row * channels + c],
                          norm_value(v, saved, weight, bias, channels, c), op);
        sum += d;
        products += d * (v - saved[c]);
    }
    blocks[2 * b * channels + c] = sum;
    blocks[(2 * b + 1) * channels + c] = products;
}
)

/* dweight += sum(dy h), dbias += sum(dy), h = (x - mean) * inverse; terms = what norm_back needs:
   dx = scale dy + (x - mean) terms[0] + terms[1], the last two 0 in evaluation form */
FINETUNE_LINE FINETUNE_CL(norm_totals,
__kernel void norm_totals(__global const float *blocks, __global const float *saved,
                          __global const float *weight, __global float *dweight,
                          __global float *dbias, __global float *terms, int rows, int channels,
                          int count, int training, int wants)
{
    int c = get_global_id(0), b;
    float sum = 0.0f, products = 0.0f, inverse, scale;
    if (c >= channels) return;
    inverse = saved[channels + c];
    scale = inverse * weight[c];
    for (b = 0; b < count; ++b) {
        sum += blocks[2 * b * channels + c];
        products += blocks[(2 * b + 1) * channels + c] * inverse;
    }
    if (wants & 1) dweight[c] += products;
    if (wants & 2) dbias[c] += sum;
    terms[c] = training ? -scale * inverse * (products / (float)rows) : 0.0f;
    terms[channels + c] = training ? -scale * (sum / (float)rows) : 0.0f;
}
)

FINETUNE_LINE FINETUNE_CL(norm_back,
__kernel void norm_back(__global const float *x, __global const float *dy,
                        __global const float *saved, __global const float *weight,
                        __global const float *bias, __global const float *terms,
                        __global float *dx, int count, int channels, int op, int fresh)
{
    int i = get_global_id(0), c = i % channels;
    float d;
    if (i >= count) return;
    d = norm_dy(dy[i], norm_value(x[i], saved, weight, bias, channels, c), op);
    d = d * (saved[channels + c] * weight[c])
        + ((x[i] - saved[c]) * terms[c] + terms[channels + c]);
    dx[i] = fresh ? d : dx[i] + d;
}
)

/* ---- Pooling: windows over [N, in_y, in_x, C]; one work-item per number of the output or,
   backward, of the input, which gathers from the windows that contain it. ---- */
FINETUNE_LINE FINETUNE_CL(pooling,
typedef struct pool {
    int pictures, channels, in_y, in_x, out_y, out_x, kernel_y, kernel_x, stride_y, stride_x;
    int top, left, bottom, right;
    int inside;                 /* averages divide by the pixels inside */
    int fresh;
} pool;

/* [first, last): the part of window `at` that is inside */
int pool_first(int at, int stride, int before) { return max(at * stride - before, 0); }
int pool_last(int at, int stride, int before, int kernel_size, int in)
{
    return min(at * stride - before + kernel_size, in);
}

/* What an average divides by: the pixels inside, or those of the padded picture. */
float pool_area(const pool *p, int oy, int ox)
{
    int y = oy * p->stride_y - p->top, x = ox * p->stride_x - p->left;
    int high = min(y + p->kernel_y, p->inside ? p->in_y : p->in_y + p->bottom);
    int wide = min(x + p->kernel_x, p->inside ? p->in_x : p->in_x + p->right);
    if (p->inside) {
        y = max(y, 0);
        x = max(x, 0);
    }
    return (float)((high - y) * (wide - x));
}
)

/* The maximum of a window and its place; the first of several, or NaN if there is one. */
FINETUNE_LINE FINETUNE_CL(max_pool_forward,
__kernel void max_pool_forward(__global const float *x, __global float *y, __global int *where,
                               pool p)
{
    int i = get_global_id(0), c = i % p.channels, ox = i / p.channels % p.out_x;
    int oy = i / p.channels / p.out_x % p.out_y, n = i / p.channels / p.out_x / p.out_y;
    int top = pool_first(oy, p.stride_y, p.top), left = pool_first(ox, p.stride_x, p.left);
    int bottom = pool_last(oy, p.stride_y, p.top, p.kernel_y, p.in_y);
    int right = pool_last(ox, p.stride_x, p.left, p.kernel_x, p.in_x), r, s, at;
    float best;
    if (n >= p.pictures) return;
    at = top * p.in_x + left;
    best = x[(n * p.in_y * p.in_x + at) * p.channels + c];
    for (r = top; r < bottom; ++r)
        for (s = left; s < right; ++s) {
            float v = x[((n * p.in_y + r) * p.in_x + s) * p.channels + c];
            if (v > best || (v != v && best == best)) {
                best = v;
                at = r * p.in_x + s;
            }
        }
    y[i] = best;
    where[i] = at;
}
)

FINETUNE_LINE FINETUNE_CL(pool_backward,
__kernel void pool_backward(__global const float *dy, __global const int *where,
                            __global float *dx, pool p, int largest)
{
    int i = get_global_id(0), c = i % p.channels, s = i / p.channels % p.in_x;
    int r = i / p.channels / p.in_x % p.in_y, n = i / p.channels / p.in_x / p.in_y, oy, ox;
    int y0 = max((r + p.top - p.kernel_y) / p.stride_y, 0);
    int x0 = max((s + p.left - p.kernel_x) / p.stride_x, 0);
    int y1 = min((r + p.top) / p.stride_y, p.out_y - 1);
    int x1 = min((s + p.left) / p.stride_x, p.out_x - 1);
    float sum = 0.0f;
    if (n >= p.pictures) return;
    for (oy = y0; oy <= y1; ++oy)
        for (ox = x0; ox <= x1; ++ox) {
            int at = ((n * p.out_y + oy) * p.out_x + ox) * p.channels + c;
            if (oy * p.stride_y - p.top + p.kernel_y <= r) continue;
            if (ox * p.stride_x - p.left + p.kernel_x <= s) continue;
            if (!largest) sum += dy[at] / pool_area(&p, oy, ox);
            else if (where[at] == r * p.in_x + s) sum += dy[at];
        }
    dx[i] = p.fresh ? sum : dx[i] + sum;
}
)

FINETUNE_LINE FINETUNE_CL(avg_pool_forward,
__kernel void avg_pool_forward(__global const float *x, __global float *y, pool p)
{
    int i = get_global_id(0), c = i % p.channels, ox = i / p.channels % p.out_x;
    int oy = i / p.channels / p.out_x % p.out_y, n = i / p.channels / p.out_x / p.out_y, r, s;
    int top = pool_first(oy, p.stride_y, p.top), left = pool_first(ox, p.stride_x, p.left);
    int bottom = pool_last(oy, p.stride_y, p.top, p.kernel_y, p.in_y);
    int right = pool_last(ox, p.stride_x, p.left, p.kernel_x, p.in_x);
    float sum = 0.0f;
    if (n >= p.pictures) return;
    for (r = top; r < bottom; ++r)
        for (s = left; s < right; ++s) sum += x[((n * p.in_y + r) * p.in_x + s) * p.channels + c];
    y[i] = sum / pool_area(&p, oy, ox);
}
)

/* ---- Shapes ---- */

/* The place in memory of number i of a sample, in the order that users see. */
FINETUNE_LINE FINETUNE_CL(reshape,
int memory_place(int i, int plane, int channels) { return i % plane * channels + i / plane; }

/* y[place_y(i)] (+)= x[place_x(i)] in every sample of `each` numbers */
__kernel void reshape(__global const float *x, __global float *y, int count, int each, int plane_x,
                      int channels_x, int plane_y, int channels_y, int add)
{
    int i = get_global_id(0), n, k, to, from;
    if (i >= count) return;
    n = i / each * each;
    k = i % each;
    to = n + memory_place(k, plane_y, channels_y);
    from = n + memory_place(k, plane_x, channels_x);
    y[to] = add ? y[to] + x[from] : x[from];
}
)

/* to[outer][to_at + i] (+)= from[outer][from_at + i], i < block: concat, one input at a time */
FINETUNE_LINE FINETUNE_CL(copy_blocks,
__kernel void copy_blocks(__global const float *from, __global float *to, int count, int block,
                          int from_step, int from_at, int to_step, int to_at, int add)
{
    int i = get_global_id(0), j, k;
    if (i >= count) return;
    j = i / block * to_step + to_at + i % block;
    k = i / block * from_step + from_at + i % block;
    to[j] = add ? to[j] + from[k] : from[k];
}
)

/* ---- Arithmetic of several tensors, as in operators/arithmetic: X(name, y = f(a, b), dy/da, dy/db).
   The library reads the names and numbers them. A grid has the sizes of y, and an input's step along
   each: 0 where it is repeated; its first size is 0 if the input lies in memory as y does ---- */
#define FINETUNE_PAIRS(X)                                                                         \
    X(add, a + b, 1.0f, 1.0f)                                                                     \
    X(mul, a * b, b, a)                                                                           \
    X(sub, a - b, 1.0f, -1.0f)                                                                    \
    X(div, a / b, 1.0f / b, -(a / b) / b)                                                         \
    X(maximum, a > b || a != a ? a : b, a > b ? 1.0f : a < b ? 0.0f : 0.5f,                       \
      b > a ? 1.0f : b < a ? 0.0f : 0.5f)                                                         \
    X(minimum, a < b || a != a ? a : b, a < b ? 1.0f : a > b ? 0.0f : 0.5f,                       \
      b < a ? 1.0f : b > a ? 0.0f : 0.5f)                                                         \
    X(equal, a == b ? 1.0f : 0.0f, 0.0f, 0.0f)                                                    \
    X(not_equal, a != b ? 1.0f : 0.0f, 0.0f, 0.0f)                                                \
    X(less, a < b ? 1.0f : 0.0f, 0.0f, 0.0f)                                                      \
    X(less_equal, a <= b ? 1.0f : 0.0f, 0.0f, 0.0f)                                               \
    X(greater, a > b ? 1.0f : 0.0f, 0.0f, 0.0f)                                                   \
    X(greater_equal, a >= b ? 1.0f : 0.0f, 0.0f, 0.0f)                                            \
    X(power, pow(a, b), b == 0.0f ? 0.0f : b * pow(a, b - 1.0f),                                  \
      a == 0.0f && b >= 0.0f ? 0.0f : pow(a, b) * log(a))                                         \
    X(expand_as, a, 1.0f, 0.0f)
#define PAIR_NUMBER(name, value, da, db) FINETUNE_PASTE(PAIR_, name),
#define PAIR_VALUE(name, value, da, db) case FINETUNE_PASTE(PAIR_, name): return value;
#define PAIR_LEFT(name, value, da, db) case FINETUNE_PASTE(PAIR_, name): return da;
#define PAIR_RIGHT(name, value, da, db) case FINETUNE_PASTE(PAIR_, name): return db;

FINETUNE_LINE FINETUNE_CL(pair,
enum { FINETUNE_PAIRS(PAIR_NUMBER) PAIR_COUNT };

int place_in(const int *size, const int *step, int i)
{
    int index = 0, d;
    for (d = 5; d >= 0; --d) {
        index += i % size[d] * step[d];
        i /= size[d];
    }
    return index;
}

typedef struct grid { int size[6], step[6]; } grid;

int term_of(const grid *g, int i) { return g->size[0] ? place_in(g->size, g->step, i) : i; }

float pair_of(int pair, float a, float b)
{
    switch (pair) {
    FINETUNE_PAIRS(PAIR_VALUE)
    default: return a;
    }
}

__kernel void pair_forward(__global const float *a, __global const float *b, __global float *y,
                           int count, grid ga, grid gb, int pair, int op, float v)
{
    int i = get_global_id(0);
    if (i >= count) return;
    y[i] = activate(op, v, pair_of(pair, a[term_of(&ga, i)], b[term_of(&gb, i)]));
}
)

/* An input's gradient: dx[j] (+)= the sum of dy times the slope over the places where x[j] was used.
   They are enumerated along the dimensions in which it is repeated: `repeats` of them. */
FINETUNE_LINE FINETUNE_CL(pair_backward,
float pair_slope(int pair, int right, float a, float b)
{
    if (right) switch (pair) {
    FINETUNE_PAIRS(PAIR_RIGHT)
    default: return 0.0f;
    }
    switch (pair) {
    FINETUNE_PAIRS(PAIR_LEFT)
    default: return 0.0f;
    }
}

/* The place in y of the use number r of number j of an input. */
int use_of(const grid *g, int j, int r)
{
    int stride = 1, at = 0, d;
    if (!g->size[0]) return j;
    for (d = 5; d >= 0; --d) {
        int index = g->step[d] ? j / g->step[d] % g->size[d] : r % g->size[d];
        if (!g->step[d]) r /= g->size[d];
        at += index * stride;
        stride *= g->size[d];
    }
    return at;
}

__kernel void pair_backward(__global const float *a, __global const float *b,
                            __global const float *dy, __global float *dx, int count, grid ga,
                            grid gb, int right, int repeats, int pair, int fresh)
{
    int j = get_global_id(0), r;
    float sum = 0.0f;
    if (j >= count) return;
    for (r = 0; r < repeats; ++r) {
        int at = use_of(right ? &gb : &ga, j, r);
        sum += dy[at] * pair_slope(pair, right, a[term_of(&ga, at)], b[term_of(&gb, at)]);
    }
    dx[j] = fresh ? sum : dx[j] + sum;
}
)

/* where: y = a if the condition c is not 0, else b; the gradient of input number `input`, 1 or 2 */
FINETUNE_LINE FINETUNE_CL(where,
__kernel void where_forward(__global const float *c, __global const float *a,
                            __global const float *b, __global float *y, int count, grid gc,
                            grid ga, grid gb)
{
    int i = get_global_id(0);
    if (i >= count) return;
    y[i] = c[term_of(&gc, i)] != 0.0f ? a[term_of(&ga, i)] : b[term_of(&gb, i)];
}

__kernel void where_backward(__global const float *c, __global const float *dy,
                             __global float *dx, int count, grid gc, grid ga, grid gb, int input,
                             int repeats, int fresh)
{
    int j = get_global_id(0), r;
    float sum = 0.0f;
    if (j >= count) return;
    for (r = 0; r < repeats; ++r) {
        int at = use_of(input == 1 ? &ga : &gb, j, r);
        if ((c[term_of(&gc, at)] != 0.0f) == (input == 1)) sum += dy[at];
    }
    dx[j] = fresh ? sum : dx[j] + sum;
}
)

/* ---- Functions of one tensor, as in operators/elementwise: X(name, y = f(x), slope dy/dx in x or y).
   p, q: the exponent of pow, the bounds of clamp and hardtanh, threshold and value of threshold, the
   scale and shift of affine ---- */
#define FINETUNE_UNARIES(X)                                                                       \
    X(exp, exp(x), y)                                                                             \
    X(log, log(x), 1.0f / x)                                                                      \
    X(sqrt, sqrt(x), 0.5f / y)                                                                    \
    X(abs, fabs(x), x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f)                                    \
    X(neg, -x, -1.0f)                                                                             \
    X(erf, erf(x), 1.12837917f * exp(-x * x))                                                     \
    X(pow, pow(x, p), p * pow(x, p - 1.0f))                                                       \
    X(clamp, x < p ? p : x > q ? q : x, x > p && x < q ? 1.0f : 0.0f)                             \
    X(hardtanh, x < p ? p : x > q ? q : x, x > p && x < q ? 1.0f : 0.0f)                          \
    X(threshold, x <= p ? q : x, x > p ? 1.0f : 0.0f)                                             \
    X(affine, p * x + q, p)                                                                       \
    X(detach, x, 0.0f)                                                                            \
    X(floor, floor(x), 0.0f)                                                                      \
    X(ceil, ceil(x), 0.0f)                                                                        \
    X(round, rint(x), 0.0f)                                                                       \
    X(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x, 0.0f)
#define UNARY_NUMBER(name, value, slope) FINETUNE_PASTE(UNARY_, name),
#define UNARY_VALUE(name, value, slope) case FINETUNE_PASTE(UNARY_, name): return value;
#define UNARY_SLOPE(name, value, slope) case FINETUNE_PASTE(UNARY_, name): return slope;

FINETUNE_LINE FINETUNE_CL(unary,
enum { FINETUNE_UNARIES(UNARY_NUMBER) UNARY_COUNT };

float unary_of(int unary, float p, float q, float x)
{
    switch (unary) {
    FINETUNE_UNARIES(UNARY_VALUE)
    default: return x;
    }
}

/* v: y where the slope is given by it, else x */
float unary_slope(int unary, float p, float q, float v)
{
    float x = v, y = v;
    switch (unary) {
    FINETUNE_UNARIES(UNARY_SLOPE)
    default: return 1.0f;
    }
}

__kernel void unary_forward(__global const float *x, __global float *y, int count, int unary,
                            float p, float q)
{
    int i = get_global_id(0);
    if (i < count) y[i] = unary_of(unary, p, q, x[i]);
}

__kernel void unary_backward(__global const float *kept, __global const float *dy,
                             __global float *dx, int count, int unary, float p, float q, int fresh)
{
    int i = get_global_id(0);
    float d;
    if (i >= count) return;
    d = dy[i] * unary_slope(unary, p, q, kept[i]);
    dx[i] = fresh ? d : dx[i] + d;
}
)

/* ---- mean, sum, amax: y[i] of `each` numbers of x, at place_in(stay, i) + place_in(gone, 0, 1, ..).
   how: 0 their sum, 1 the largest, 2 how many are equal to y[i]. Cut into `parts` of `length`, whose
   results are put together after that ---- */
FINETUNE_LINE FINETUNE_CL(reduce,
__kernel void reduce_parts(__global const float *x, __global const float *y,
                           __global float *partial, int count, grid stay, grid gone, int each,
                           int parts, int length, int how)
{
    int i = get_global_id(0), from, k, end;
    WIDEST sum = 0.0f;
    float best = -INFINITY;
    if (i >= count) return;
    from = place_in(stay.size, stay.step, i / parts);
    k = i % parts * length;
    end = min(k + length, each);
    for (; k < end; ++k) {
        float v = x[from + place_in(gone.size, gone.step, k)];
        if (how == 1) best = v > best || v != v ? v : best;
        else sum += how == 2 ? (v == y[i / parts] ? 1.0f : 0.0f) : v;
    }
    partial[i] = how == 1 ? best : (float)sum;
}

__kernel void reduce_end(__global const float *partial, __global float *y, int count, int parts,
                         float divisor, int how)
{
    int i = get_global_id(0), k;
    WIDEST sum = 0.0f;
    float best = -INFINITY;
    if (i >= count) return;
    for (k = 0; k < parts; ++k) {
        float v = partial[i * parts + k];
        if (how == 1) best = v > best || v != v ? v : best;
        else sum += v;
    }
    y[i] = how == 1 ? best : (float)(sum / divisor);
}

/* dx[j] (+)= dy / divisor of y's number that x[j] belongs to; amax: if x[j] is as large, over `ties` */
__kernel void reduce_backward(__global const float *x, __global const float *y,
                              __global const float *ties, __global const float *dy,
                              __global float *dx, int count, grid g, float divisor, int largest,
                              int fresh)
{
    int j = get_global_id(0), i;
    float d;
    if (j >= count) return;
    i = place_in(g.size, g.step, j);
    d = dy[i] / divisor;
    if (largest) d = x[j] == y[i] ? dy[i] / ties[i] : 0.0f;
    dx[j] = fresh ? d : dx[j] + d;
}
)

/* permute: y[i] = x[place_in(i)], where y has the sizes g.size as in memory; backward:
   dx[place_in(i)] (+)= dy[i]. Each number is visited once. */
FINETUNE_LINE FINETUNE_CL(permute,
__kernel void permute(__global const float *from, __global float *to, int count, grid g,
                      int backward, int add)
{
    int i = get_global_id(0), j, target, source;
    if (i >= count) return;
    j = place_in(g.size, g.step, i);
    target = backward ? j : i;
    source = backward ? i : j;
    to[target] = add ? to[target] + from[source] : from[source];
}
)

/* gather along one axis: y[.., k, ..] = x[.., index[.., k, ..], ..]. `size`: the sizes of y
   (forward) or x (backward) in the order that users see; x, y, index: their strides along each;
   `limit`: x's size along the axis, `many`: the index's. A wrong index gives NaN. */
FINETUNE_LINE FINETUNE_CL(gather_along,
typedef struct gathering { int size[6], x[6], y[6], index[6], axis, limit, many; } gathering;

__kernel void gather_along_forward(__global const float *x, __global const int *index,
                                   __global float *y, int count, gathering g)
{
    int rest = get_global_id(0), from = 0, to = 0, place = 0, wanted, d;
    if (rest >= count) return;
    for (d = 5; d >= 0; --d) {
        int at = rest % g.size[d];
        rest /= g.size[d];
        to += at * g.y[d];
        place += at * g.index[d];
        if (d != g.axis) from += at * g.x[d];
    }
    wanted = index[place];
    y[to] = wanted < 0 || wanted >= g.limit ? NAN : x[from + wanted * g.x[g.axis]];
}

/* dx[i] (+)= dy wherever the index is i; searched in order, so that the sum has a fixed order */
__kernel void gather_along_backward(__global const int *index, __global const float *dy,
                                    __global float *dx, int count, gathering g, int fresh)
{
    int rest = get_global_id(0), to = 0, from = 0, place = 0, mine = 0, d, n;
    float sum = 0.0f;
    if (rest >= count) return;
    for (d = 5; d >= 0; --d) {
        int at = rest % g.size[d];
        rest /= g.size[d];
        to += at * g.x[d];
        if (d == g.axis) mine = at;
        else {
            from += at * g.y[d];
            place += at * g.index[d];
        }
    }
    for (n = 0; n < g.many; ++n)
        if (index[place + n * g.index[g.axis]] == mine) sum += dy[from + n * g.y[g.axis]];
    dx[to] = fresh ? sum : dx[to] + sum;
}
)

/* layer_norm: rows of `size` numbers; saved: mean and r = 1 / deviation of each row. With
   h = (x - mean) r and g = dy weight: dx = r (g - mean(g) - h mean(g h)). rms_norm is not centred:
   the same without mean, mean(g) and bias. */
FINETUNE_LINE FINETUNE_CL(layer_norm,
__kernel void layer_norm_forward(__global const float *x, __global const float *weight,
                                 __global const float *bias, __global float *y,
                                 __global float *saved, int rows, int size, float eps,
                                 int centred)
{
    int row = get_global_id(0), base = row * size, i;
    float sum = 0.0f, squares = 0.0f, mean, r;
    if (row >= rows) return;
    for (i = 0; i < size; ++i) sum += x[base + i];
    mean = centred ? sum / size : 0.0f;
    for (i = 0; i < size; ++i) {
        float d = x[base + i] - mean;
        squares += d * d;
    }
    r = 1.0f / sqrt(squares / size + eps);
    saved[2 * row] = mean;
    saved[2 * row + 1] = r;
    for (i = 0; i < size; ++i)
        y[base + i] = (x[base + i] - mean) * r * weight[i] + (centred ? bias[i] : 0.0f);
}

__kernel void layer_norm_input(__global const float *x, __global const float *weight,
                               __global const float *saved, __global const float *dy,
                               __global float *dx, int rows, int size, int fresh, int centred)
{
    int row = get_global_id(0), base = row * size, i;
    float mean, r, mean_g = 0.0f, mean_gh = 0.0f;
    if (row >= rows) return;
    mean = saved[2 * row];
    r = saved[2 * row + 1];
    for (i = 0; i < size; ++i) {
        float g = dy[base + i] * weight[i];
        mean_g += g;
        mean_gh += g * (x[base + i] - mean) * r;
    }
    mean_g = centred ? mean_g / size : 0.0f;
    mean_gh /= size;
    for (i = 0; i < size; ++i) {
        int at = base + i;
        float d = r * (dy[at] * weight[i] - mean_g - (x[at] - mean) * r * mean_gh);
        dx[at] = fresh ? d : dx[at] + d;
    }
}

/* partial[0][b][i] = the sum over a block of rows of dy h, partial[1][b][i] = that of dy:
   column_sums_end adds them to dweight and dbias. */
__kernel void layer_norm_weight(__global const float *x, __global const float *saved,
                                __global const float *dy, __global float *partial, int rows,
                                int size, int block)
{
    int i = get_global_id(0), b = get_global_id(1), row, end = min((b + 1) * block, rows);
    int blocks = (rows + block - 1) / block;
    float of_h = 0.0f, sum = 0.0f;
    if (i >= size) return;
    for (row = b * block; row < end; ++row) {
        int at = row * size + i;
        of_h += dy[at] * (x[at] - saved[2 * row]) * saved[2 * row + 1];
        sum += dy[at];
    }
    partial[b * size + i] = of_h;
    partial[(blocks + b) * size + i] = sum;
}
)

/* The same for long rows that are contiguous: a work-group per row, whose items read every GROUP-th
   number. */
FINETUNE_LINE FINETUNE_CL(layer_norm_group,
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void layer_norm_group_forward(__global const float *x, __global const float *weight,
                              __global const float *bias, __global float *y,
                              __global float *saved, int size, float eps, int centred)
{
    __local float parts[GROUP];
    int item = get_local_id(0), row = get_group_id(0), at = row * size, i;
    float sum = 0.0f, squares = 0.0f, mean, r;
    for (i = item; i < size; i += GROUP) sum += x[at + i];
    mean = group_sum(parts, item, sum) / size;
    if (!centred) mean = 0.0f;
    for (i = item; i < size; i += GROUP) {
        float d = x[at + i] - mean;
        squares += d * d;
    }
    r = 1.0f / sqrt(group_sum(parts, item, squares) / size + eps);
    if (item == 0) {
        saved[2 * row] = mean;
        saved[2 * row + 1] = r;
    }
    for (i = item; i < size; i += GROUP)
        y[at + i] = (x[at + i] - mean) * r * weight[i] + (centred ? bias[i] : 0.0f);
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void layer_norm_group_input(__global const float *x, __global const float *weight,
                            __global const float *saved, __global const float *dy,
                            __global float *dx, int size, int fresh, int centred)
{
    __local float parts[GROUP];
    int item = get_local_id(0), row = get_group_id(0), at = row * size, i;
    float mean = saved[2 * row], r = saved[2 * row + 1], mean_g = 0.0f, mean_gh = 0.0f;
    for (i = item; i < size; i += GROUP) {
        float g = dy[at + i] * weight[i];
        mean_g += g;
        mean_gh += g * (x[at + i] - mean) * r;
    }
    mean_g = group_sum(parts, item, mean_g) / size;
    if (!centred) mean_g = 0.0f;
    mean_gh = group_sum(parts, item, mean_gh) / size;
    for (i = item; i < size; i += GROUP) {
        float d = r * (dy[at + i] * weight[i] - mean_g - (x[at + i] - mean) * r * mean_gh);
        dx[at + i] = fresh ? d : dx[at + i] + d;
    }
}
)

/* group_norm: a work-group for each sample's group of `each` of the channels. `last`: the channels
   are the last dimension in memory. saved: mean and r = 1 / deviation of each group. */
FINETUNE_LINE FINETUNE_CL(group_norm,
typedef struct { int samples, channels, places, groups, each, last, affine; } norm_groups;

/* Number i of a group: where it is, and its channel. */
int group_place(norm_groups g, int group, int i, int *channel)
{
    int c = group % g.groups * g.each + (g.last ? i % g.each : i / g.places);
    int place = g.last ? i / g.each : i % g.places, sample = group / g.groups;
    *channel = c;
    return g.last ? (sample * g.places + place) * g.channels + c
                  : (sample * g.channels + c) * g.places + place;
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void group_norm_forward(__global const float *x, __global const float *weight,
                        __global const float *bias, __global float *y, __global float *saved,
                        norm_groups g, float eps)
{
    __local float parts[GROUP];
    int item = get_local_id(0), group = get_group_id(0), size = g.each * g.places, i, c;
    float sum = 0.0f, squares = 0.0f, mean, r;
    for (i = item; i < size; i += GROUP) sum += x[group_place(g, group, i, &c)];
    mean = group_sum(parts, item, sum) / size;
    for (i = item; i < size; i += GROUP) {
        float d = x[group_place(g, group, i, &c)] - mean;
        squares += d * d;
    }
    r = 1.0f / sqrt(group_sum(parts, item, squares) / size + eps);
    if (item == 0) {
        saved[2 * group] = mean;
        saved[2 * group + 1] = r;
    }
    for (i = item; i < size; i += GROUP) {
        int at = group_place(g, group, i, &c);
        float h = (x[at] - mean) * r;
        y[at] = g.affine ? h * weight[c] + bias[c] : h;
    }
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void group_norm_input(__global const float *x, __global const float *weight,
                      __global const float *saved, __global const float *dy, __global float *dx,
                      norm_groups g, int fresh)
{
    __local float parts[GROUP];
    int item = get_local_id(0), group = get_group_id(0), size = g.each * g.places, i, c;
    float mean = saved[2 * group], r = saved[2 * group + 1], mean_d = 0.0f, mean_dh = 0.0f;
    for (i = item; i < size; i += GROUP) {
        int at = group_place(g, group, i, &c);
        float d = g.affine ? dy[at] * weight[c] : dy[at];
        mean_d += d;
        mean_dh += d * (x[at] - mean) * r;
    }
    mean_d = group_sum(parts, item, mean_d) / size;
    mean_dh = group_sum(parts, item, mean_dh) / size;
    for (i = item; i < size; i += GROUP) {
        int at = group_place(g, group, i, &c);
        float d = g.affine ? dy[at] * weight[c] : dy[at];
        d = r * (d - mean_d - (x[at] - mean) * r * mean_dh);
        dx[at] = fresh ? d : dx[at] + d;
    }
}

/* A work-group for each channel. wants: 1 dweight, 2 dbias */
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void group_norm_weight(__global const float *x, __global const float *saved,
                       __global const float *dy, __global float *dweight, __global float *dbias,
                       norm_groups g, int wants)
{
    __local float parts[GROUP];
    int item = get_local_id(0), c = get_group_id(0), size = g.samples * g.places, i;
    float of_h = 0.0f, sum = 0.0f;
    for (i = item; i < size; i += GROUP) {
        int sample = i / g.places, place = i % g.places, group = sample * g.groups + c / g.each;
        int at = g.last ? (sample * g.places + place) * g.channels + c
                        : (sample * g.channels + c) * g.places + place;
        of_h += dy[at] * (x[at] - saved[2 * group]) * saved[2 * group + 1];
        sum += dy[at];
    }
    of_h = group_sum(parts, item, of_h);
    sum = group_sum(parts, item, sum);
    if (item == 0 && (wants & 1)) dweight[c] += of_h;
    if (item == 0 && (wants & 2)) dbias[c] += sum;
}
)

/* matmul: out [m, n] (+)= a [m, k] b [k, n] for every index z = (outer, inner) of the dimensions
   before. Strides per outer index, inner index, row and column describe each matrix, transposed or
   channels-last. A work-group computes a 16 x 16 tile from tiles of both in local memory. */
FINETUNE_LINE FINETUNE_CL(matmul,
typedef struct matrix { int outer, inner, row, column; } matrix;
typedef struct product { int m, n, k, inner; matrix a, b, out; } product;

int matrix_start(const matrix *x, int z, int inner)
{
    return z / inner * x->outer + z % inner * x->inner;
}

__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void matmul(__global const float *a, __global const float *b, __global float *out, product p,
            int add)
{
    __local float left[16][17], right[16][17];
    int column = get_global_id(0), row = get_global_id(1), z = get_global_id(2), first, l;
    int x = get_local_id(0), y = get_local_id(1);
    float sum = 0.0f;
    a += matrix_start(&p.a, z, p.inner);
    b += matrix_start(&p.b, z, p.inner);
    out += matrix_start(&p.out, z, p.inner);
    for (first = 0; first < p.k; first += 16) {
        left[y][x] = row < p.m && first + x < p.k
            ? a[row * p.a.row + (first + x) * p.a.column] : 0.0f;
        right[y][x] = column < p.n && first + y < p.k
            ? b[(first + y) * p.b.row + column * p.b.column] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (l = 0; l < 16; ++l) sum += left[y][l] * right[l][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (row < p.m && column < p.n) {
        int at = row * p.out.row + column * p.out.column;
        out[at] = add ? out[at] + sum : sum;
    }
}
)

/* ---- Attention, as in operators/attention. A work-group of 16 x 16 items computes 16 rows from
   tiles of 16: of queries (rows) and keys (columns), or the reverse for the gradients of k and v ---- */

/* q and y: steps of `heads` heads; k and v: of heads / shared; width: of a head of q and k, wide: of
   v and y. padded: lengths holds each sample's number of keys, and of queries unless all_queries.
   packed: q, k and v are columns of one tensor. */
FINETUNE_LINE FINETUNE_CL(attention,
typedef struct attention {
    int queries, keys, heads, shared, width, wide, causal, padded, all_queries, packed, documents;
    float scale;
} attention;

/* One head of one sample: the sample's own numbers of keys and queries, where its numbers begin, the
   distance of steps. */
typedef struct head {
    int keys, queries, q, k, v, y, q_step, k_step, v_step, y_step, row;
} head;

head head_of(const attention *a, __global const int *lengths, int sample, int which)
{
    int some = a->heads / a->shared, other = which / a->shared;
    head h;
    h.keys = a->padded ? max(0, min(lengths[sample], a->keys)) : a->keys;
    h.queries = a->padded && !a->all_queries ? h.keys : a->queries;
    h.q_step = a->heads * a->width;
    h.k_step = some * a->width;
    h.v_step = some * a->wide;
    h.y_step = a->heads * a->wide;
    if (a->packed) h.q_step = h.k_step = h.v_step = (a->heads + 2 * some) * a->width;
    h.q = sample * a->queries * h.q_step + which * a->width;
    h.k = sample * a->keys * h.k_step + other * a->width;
    h.v = sample * a->keys * h.v_step + other * a->wide;
    if (a->packed) {
        h.k += a->heads * a->width;
        h.v += (a->heads + some) * a->width;
    }
    h.y = sample * a->queries * h.y_step + which * a->wide;
    h.row = (sample * a->heads + which) * a->queries;
    return h;
}

/* How many keys a query sees. */
int keys_seen(const attention *a, const head *h, int query)
{
    if (query >= h->queries) return 0;
    return a->causal ? min(max(query + 1 + h->keys - h->queries, 0), h->keys) : h->keys;
}

/* The first key that a query sees: that of its document, in which positions number the steps. */
int first_key(const attention *a, __global const int *positions, int sample, int query)
{
    int place = a->documents && query < a->queries ? positions[sample * a->queries + query] : -1;
    return place >= 0 && place <= query ? query - place : 0;
}

/* The lowest of those of the 16 queries from `first` on, rounded down to a tile. */
int first_tile(const attention *a, __global const int *positions, int sample, int first)
{
    int lowest = first_key(a, positions, sample, first), i;
    for (i = first + 1; a->documents && i < first + 16 && i < a->queries; ++i)
        lowest = min(lowest, first_key(a, positions, sample, i));
    return lowest / 16 * 16;
}

/* This item's number of the tile a b^T: rows and columns of `width` numbers; those from a_rows and
   b_rows on count as zeros. */
float tile_product(__local float *left, __local float *right, __global const float *a, int a_step,
                   int a_rows, __global const float *b, int b_step, int b_rows, int width)
{
    int x = get_local_id(0), y = get_local_id(1), first, l;
    float sum = 0.0f;
    for (first = 0; first < width; first += 16) {
        bool inside = first + x < width;
        left[y * 17 + x] = inside && y < a_rows ? a[y * a_step + first + x] : 0.0f;
        right[y * 17 + x] = inside && y < b_rows ? b[y * b_step + first + x] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (l = 0; l < 16; ++l) sum += left[y * 17 + l] * right[x * 17 + l];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return sum;
}

/* to[i] += the tile's row p times rows of `from`: number i of each, of `width`. */
void add_row(__local const float *p, __global const float *from, int step, int rows,
             __global float *to, int width)
{
    int i, l;
    for (i = get_local_id(0); i < width; i += 16) {
        float sum = 0.0f;
        for (l = 0; l < rows; ++l) sum += p[l] * from[l * step + i];
        to[i] += sum;
    }
}
)

/* saved: the logarithm of each row's sum of exp(scale q k) */
FINETUNE_LINE FINETUNE_CL(attention_forward,
__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void attention_forward(__global const float *q, __global const float *k, __global const float *v,
                       __global const int *lengths, __global const int *positions,
                       __global float *y, __global float *saved, attention a)
{
    __local float left[16 * 17], right[16 * 17], p[16 * 17];
    int x = get_local_id(0), own = get_local_id(1), query = get_global_id(1), first = query - own;
    int sample = get_global_id(2) / a.heads, hidden = first_key(&a, positions, sample, query);
    head h = head_of(&a, lengths, sample, get_global_id(2) % a.heads);
    int seen = keys_seen(&a, &h, query), from, last, i, l;
    float largest = -FLT_MAX, sum = 0.0f;
    last = keys_seen(&a, &h, min(first + 15, h.queries - 1));
    for (i = x; query < a.queries && i < a.wide; i += 16) y[h.y + query * h.y_step + i] = 0.0f;
    from = first_tile(&a, positions, sample, first);
    for (; from < last; from += 16) {
        float score = a.scale * tile_product(left, right, q + h.q + first * h.q_step, h.q_step,
                                             h.queries - first, k + h.k + from * h.k_step,
                                             h.k_step, h.keys - from, a.width);
        float before = largest, shrink;
        p[own * 17 + x] = from + x < seen && from + x >= hidden ? score : -FLT_MAX;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (l = 0; l < 16; ++l) largest = fmax(largest, p[own * 17 + l]);
        barrier(CLK_LOCAL_MEM_FENCE);
        p[own * 17 + x] = from + x < seen && from + x >= hidden ? exp(score - largest) : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        shrink = exp(before - largest);
        sum *= shrink;
        for (l = 0; l < 16; ++l) sum += p[own * 17 + l];
        for (i = x; query < h.queries && i < a.wide; i += 16)
            y[h.y + query * h.y_step + i] *= shrink;
        if (query < h.queries)
            add_row(p + own * 17, v + h.v + from * h.v_step, h.v_step, min(16, h.keys - from),
                    y + h.y + query * h.y_step, a.wide);
    }
    for (i = x; seen > 0 && i < a.wide; i += 16) y[h.y + query * h.y_step + i] /= sum;
    if (x == 0 && query < a.queries) saved[h.row + query] = seen > 0 ? largest + log(sum) : 0.0f;
}

/* mean[row] = the sum of dy y, for backward */
__kernel void attention_mean(__global const float *y, __global const float *dy,
                             __global float *mean, int rows, attention a)
{
    int row = get_global_id(0), at, i;
    float sum = 0.0f;
    if (row >= rows) return;
    at = row / a.queries / a.heads * a.queries + row % a.queries;
    at = (at * a.heads + row / a.queries % a.heads) * a.wide;
    for (i = 0; i < a.wide; ++i) sum += y[at + i] * dy[at + i];
    mean[row] = sum;
}
)

/* dq (+)= scale dS k: rows are queries */
FINETUNE_LINE FINETUNE_CL(attention_queries,
__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void attention_queries(__global const float *q, __global const float *k, __global const float *v,
                       __global const int *lengths, __global const int *positions,
                       __global const float *dy, __global const float *saved,
                       __global const float *mean, __global float *dq, attention a, int fresh)
{
    __local float left[16 * 17], right[16 * 17], ds[16 * 17];
    int x = get_local_id(0), own = get_local_id(1), query = get_global_id(1), first = query - own;
    int sample = get_global_id(2) / a.heads, hidden = first_key(&a, positions, sample, query);
    head h = head_of(&a, lengths, sample, get_global_id(2) % a.heads);
    int seen = keys_seen(&a, &h, query), from, last, i;
    last = keys_seen(&a, &h, min(first + 15, h.queries - 1));
    for (i = x; fresh && query < a.queries && i < a.width; i += 16)
        dq[h.q + query * h.q_step + i] = 0.0f;
    from = first_tile(&a, positions, sample, first);
    for (; from < last; from += 16) {
        float score = tile_product(left, right, q + h.q + first * h.q_step, h.q_step,
                                   h.queries - first, k + h.k + from * h.k_step, h.k_step,
                                   h.keys - from, a.width);
        float dp = tile_product(left, right, dy + h.y + first * h.y_step, h.y_step,
                                h.queries - first, v + h.v + from * h.v_step, h.v_step,
                                h.keys - from, a.wide);
        bool sees = from + x < seen && from + x >= hidden;
        float p = sees ? exp(a.scale * score - saved[h.row + query]) : 0.0f;
        ds[own * 17 + x] = sees ? a.scale * p * (dp - mean[h.row + query]) : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (seen > 0)
            add_row(ds + own * 17, k + h.k + from * h.k_step, h.k_step, min(16, h.keys - from),
                    dq + h.q + query * h.q_step, a.width);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
)

/* dk (+)= scale dS^T q, dv (+)= P^T dy: rows are keys; wants: 1 dk, 2 dv; fresh: the same */
FINETUNE_LINE FINETUNE_CL(attention_keys,
__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void attention_keys(__global const float *q, __global const float *k, __global const float *v,
                    __global const int *lengths, __global const int *positions,
                    __global const float *dy, __global const float *saved,
                    __global const float *mean, __global float *dk, __global float *dv,
                    attention a, int wants, int fresh)
{
    __local float left[16 * 17], right[16 * 17], p[16 * 17], ds[16 * 17];
    int x = get_local_id(0), own = get_local_id(1), key = get_global_id(1), from = key - own;
    int some = a.heads / a.shared, sample = get_global_id(2) / some, shared, first, i;
    int other = get_global_id(2) % some * a.shared;
    for (shared = 0; shared < a.shared; ++shared) {
        head h = head_of(&a, lengths, sample, other + shared);
        __global float *to_k = dk + h.k + key * h.k_step, *to_v = dv + h.v + key * h.v_step;
        for (i = x; shared == 0 && (fresh & 1) && key < a.keys && i < a.width; i += 16)
            to_k[i] = 0.0f;
        for (i = x; shared == 0 && (fresh & 2) && key < a.keys && i < a.wide; i += 16)
            to_v[i] = 0.0f;
        for (first = 0; from < h.keys && first < h.queries; first += 16) {
            int query = first + x, seen = keys_seen(&a, &h, query), rows;
            float score = tile_product(left, right, k + h.k + from * h.k_step, h.k_step,
                                       h.keys - from, q + h.q + first * h.q_step, h.q_step,
                                       h.queries - first, a.width);
            float dp = tile_product(left, right, v + h.v + from * h.v_step, h.v_step,
                                    h.keys - from, dy + h.y + first * h.y_step, h.y_step,
                                    h.queries - first, a.wide);
            bool sees = key < seen && key >= first_key(&a, positions, sample, query);
            float e = sees ? exp(a.scale * score - saved[h.row + query]) : 0.0f;
            p[own * 17 + x] = e;
            ds[own * 17 + x] = sees ? a.scale * e * (dp - mean[h.row + query]) : 0.0f;
            barrier(CLK_LOCAL_MEM_FENCE);
            rows = min(16, h.queries - first);
            if (key < h.keys && (wants & 1))
                add_row(ds + own * 17, q + h.q + first * h.q_step, h.q_step, rows, to_k, a.width);
            if (key < h.keys && (wants & 2))
                add_row(p + own * 17, dy + h.y + first * h.y_step, h.y_step, rows, to_v, a.wide);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
}
)

/* rotary, as in operators/positions. angles: each step's cosines, then its sines, of `pairs` pairs, for
   `steps` steps. The rest of a head is copied. sign: 1, or -1 to turn back. */
FINETUNE_LINE FINETUNE_CL(rotary,
__kernel void rotary(__global const float *from, __global float *to, int count,
                     __global const float *angles, int steps, int pairs, int row, int width,
                     int interleaved, float sign, int add)
{
    int i = get_global_id(0), at = i % width, pair = interleaved ? at / 2 : at;
    int j = interleaved ? i + 1 : i + pairs;
    if (i >= count) return;
    if (at >= 2 * pairs) to[i] = add ? to[i] + from[i] : from[i];
    else if (interleaved ? at % 2 == 0 : at < pairs) { /* both numbers of a pair: to may be from */
        __global const float *turn = angles + i / row % steps * 2 * pairs + pair;
        float a = from[i], b = from[j], s = sign * turn[pairs];
        to[i] = (add ? to[i] : 0.0f) + a * turn[0] - b * s;
        to[j] = (add ? to[j] : 0.0f) + b * turn[0] + a * s;
    }
}
)

/* add_positions: y = x + weight[position], where the position is that given, or first + step */
FINETUNE_LINE FINETUNE_CL(add_positions,
__kernel void add_positions(__global const float *x, __global const float *weight,
                            __global const int *positions, __global float *y, int count, int width,
                            int length, int rows, int first, int given)
{
    int i = get_global_id(0), step, row;
    if (i >= count) return;
    step = i / width;
    row = given ? positions[step] : step % length + first;
    y[i] = row < 0 || row >= rows ? NAN : x[i] + weight[row * width + i % width];
}

/* dweight += the rows of dy at its position, in order */
__kernel void add_positions_weight(__global const float *dy, __global const int *positions,
                                   __global float *dweight, int count, int width, int length,
                                   int steps, int first, int given)
{
    int i = get_global_id(0), row = i / width, step = row - first;
    float sum = 0.0f;
    if (i >= count) return;
    if (given)
        for (step = 0; step < steps; ++step)
            sum += positions[step] == row ? dy[step * width + i % width] : 0.0f;
    else if (step >= 0 && step < length)
        for (; step < steps; step += length) sum += dy[step * width + i % width];
    dweight[i] += sum;
}
)

/* pad and slice: number (i0, i1, ...) of the smaller tensor is at start + i * step of the larger */
FINETUNE_LINE FINETUNE_CL(embed,
typedef struct embedding { int small[6], large[6], start[6], step[6]; } embedding;

__kernel void embed(__global const float *from, __global float *to, int count, embedding e,
                    int to_large, int add)
{
    int i = get_global_id(0), rest = i, stride = 1, at = 0, d, j, k;
    if (i >= count) return;
    for (d = 5; d >= 0; --d) {
        at += (e.start[d] + rest % e.small[d] * e.step[d]) * stride;
        rest /= e.small[d];
        stride *= e.large[d];
    }
    j = to_large ? at : i;
    k = to_large ? i : at;
    to[j] = add ? to[j] + from[k] : from[k];
}
)

/* ---- Embedding and pooling over steps, as in operators/embedding ---- */

/* y[place] = weight[ids[place]], `each` numbers; -1: zeros, any other invalid word: NaN */
FINETUNE_LINE FINETUNE_CL(embedding,
__kernel void embedding_forward(__global const int *ids, __global const float *weight,
                                __global float *y, int count, int words, int each)
{
    int i = get_global_id(0), id;
    if (i >= count) return;
    id = ids[i / each];
    y[i] = id >= 0 && id < words ? weight[id * each + i % each] : id == -1 ? 0.0f : NAN;
}
)

/* The weight's gradient sums dy over the places of each word in two stages: within blocks of
   places, then over the blocks. So no chain of sums is long, and none needs an atomic.
   links[place]: the next place of its word in the block; the first in a later block; and whether it
   is the word's first of the block (1), or of all (2). */
FINETUNE_LINE FINETUNE_CL(embedding_backward,
typedef struct word_link { int next, later, first; } word_link;

__kernel void embedding_links(__global const int *ids, __global word_link *links, int places,
                              int block, int words, int skipped)
{
    int i = get_global_id(0), begin = i / block * block, end = min(begin + block, places), id, k;
    word_link link;
    if (i >= places) return;
    id = ids[i];
    link.next = link.later = places;
    link.first = 0;
    if (id >= 0 && id < words && id != skipped) {
        for (k = i + 1; k < end && ids[k] != id; ++k) {}
        if (k < end) link.next = k;
        for (k = begin; ids[k] != id; ++k) {}
        link.first = k == i;
    }
    if (link.first) {
        for (k = end; k < places && ids[k] != id; ++k) {}
        link.later = k;
        for (k = 0; ids[k] != id; ++k) {}
        link.first += k == i;
    }
    links[i] = link;
}

__kernel void embedding_sums(__global const word_link *links, __global const float *dy,
                             __global float *sums, int places, int each)
{
    int i = get_global_id(0), at = i / each;
    float sum = 0.0f;
    if (at >= places || !links[at].first) return;
    for (; at < places; at = links[at].next) sum += dy[at * each + i % each];
    sums[i] = sum;
}

__kernel void embedding_backward(__global const int *ids, __global const word_link *links,
                                 __global const float *sums, __global float *dweight, int places,
                                 int each)
{
    int i = get_global_id(0), at = i / each, to;
    float sum = 0.0f;
    if (at >= places || links[at].first < 2) return;
    to = ids[at] * each + i % each;
    for (; at < places; at = links[at].later) sum += sums[at * each + i % each];
    dweight[to] += sum;
}
)

/* x [N, steps, features] -> [N, features]: `where` keeps the step of the maximum */
FINETUNE_LINE FINETUNE_CL(step_pool,
enum { POOL_LAST, POOL_MEAN, POOL_MAX, POOL_FIRST = 4 };

typedef struct step_pool { int steps, features, kind, bidirectional, has_lengths; } step_pool;

int real_steps(const step_pool *p, __global const int *lengths, int n)
{
    return p->has_lengths ? min(max(lengths[n], 0), p->steps) : p->steps;
}

/* The step that feature j is taken from, if it is one step: as ft__step_taken */
int step_taken(const step_pool *p, int real, int j)
{
    return p->kind == POOL_LAST && !(p->bidirectional && j >= p->features / 2) ? real - 1 : 0;
}

__kernel void step_pool_forward(__global const float *x, __global const int *lengths,
                                __global float *y, __global int *where, int count, step_pool p)
{
    int i = get_global_id(0), n = i / p.features, j = i % p.features, real, t, best = 0;
    float v = 0.0f;
    if (i >= count) return;
    real = real_steps(&p, lengths, n);
    x += n * p.steps * p.features + j;
    if (real > 0 && p.kind != POOL_MEAN) v = x[step_taken(&p, real, j) * p.features];
    for (t = 1; p.kind == POOL_MAX && t < real; ++t)
        if (!(x[t * p.features] <= v)) {
            v = x[t * p.features];
            best = t;
        }
    for (t = 0; p.kind == POOL_MEAN && t < real; ++t) v += x[t * p.features];
    y[i] = p.kind == POOL_MEAN && real > 0 ? v / (float)real : v;
    if (p.kind == POOL_MAX) where[i] = best;
}

__kernel void step_pool_backward(__global const float *dy, __global const int *lengths,
                                 __global const int *where, __global float *dx, int count,
                                 step_pool p, int fresh)
{
    int i = get_global_id(0), t = i / p.features % p.steps, j = i % p.features;
    int n = i / p.features / p.steps, at = n * p.features + j, real;
    float d = 0.0f;
    if (i >= count) return;
    real = real_steps(&p, lengths, n);
    if (p.kind == POOL_MEAN && t < real) d = dy[at] / (float)real;
    if (p.kind == POOL_MAX && real > 0 && t == where[at]) d = dy[at];
    if (p.kind != POOL_MEAN && p.kind != POOL_MAX && real > 0 && t == step_taken(&p, real, j))
        d = dy[at];
    dx[i] = fresh ? d : dx[i] + d;
}
)

/* ---- Recurrent layers, as in kernels/recurrent and operators/recurrent; one direction at a time.
   `kept` has the layout of the input, a sample's steps together: gates [n, steps, gates h]; the
   hidden states before each step [n, steps, h], and the last ones [n, h]; the LSTM's cells
   likewise, or the state's part of the GRU's new gate. ---- */
FINETUNE_LINE FINETUNE_CL(recurrent,
typedef struct recurrent {
    int n, steps, h, gates;     /* gates: 4 LSTM, 3 GRU, 1 RNN */
    int relu, has_lengths, has_bias, has_first;
    int gates_at, states_at, last_at, extra_at, last_extra_at;
    int outputs, output_at;     /* numbers of a step of y, and the first of this direction's */
    int cells_at;               /* offset of the cells in a step of y; 0: no cells */
    int features;               /* hidden numbers of all directions: a row of initial states */
    int t, next;                /* this step and the one after it, or -1 */
} recurrent;

int is_real(const recurrent *r, __global const int *lengths, int sample)
{
    return !r->has_lengths || r->t < lengths[sample];
}

/* The index in `kept` of hidden number j of a sample after step t. */
int state_after(const recurrent *r, int sample, int j, int at, int last_at)
{
    return r->next < 0 ? last_at + sample * r->h + j
                       : at + (sample * r->steps + r->next) * r->h + j;
}

/* The initial states: given, or zero. */
__kernel void recurrent_begin(__global float *kept, __global const float *hidden,
                              __global const float *cell, recurrent r)
{
    int item = get_global_id(0), i = item / r.h, j = item % r.h;
    int to = (i * r.steps + r.t) * r.h + j, from = i * r.features + r.output_at + j;
    if (i >= r.n) return;
    kept[r.states_at + to] = r.has_first ? hidden[from] : 0.0f;
    if (r.gates == 4) kept[r.extra_at + to] = r.has_first ? cell[from] : 0.0f;
}
)

/* A step of every sample: `kept` has what the input adds to the gates, `add` [n, gates h] what the
   state adds. A padded step does not change the state, and its output is zero. */
FINETUNE_LINE FINETUNE_CL(recurrent_step,
__kernel void recurrent_step(__global float *kept, __global const float *add,
                             __global const float *bias_ih, __global const float *bias_hh,
                             __global const int *lengths, __global float *y, recurrent r)
{
    int item = get_global_id(0), i = item / r.h, j = item % r.h, row = i * r.steps + r.t, k;
    int wide = r.gates * r.h, to = row * r.outputs + r.output_at + j, real;
    __global float *gate = kept + r.gates_at + row * wide + j;
    float x[4], s[4], state, extra = 0.0f;
    if (i >= r.n) return;
    real = is_real(&r, lengths, i);
    state = kept[r.states_at + row * r.h + j];
    if (r.gates == 4) extra = kept[r.extra_at + row * r.h + j];
    if (real) {
        for (k = 0; k < r.gates; ++k) {
            x[k] = gate[k * r.h] + (r.has_bias ? bias_ih[k * r.h + j] : 0.0f);
            s[k] = add[i * wide + k * r.h + j] + (r.has_bias ? bias_hh[k * r.h + j] : 0.0f);
        }
        if (r.gates == 4) {
            for (k = 0; k < 4; ++k) x[k] = k == 2 ? tanh(x[k] + s[k]) : sigmoid(x[k] + s[k]);
            extra = x[1] * extra + x[0] * x[2];
            state = x[3] * tanh(extra);
        } else if (r.gates == 3) {
            for (k = 0; k < 2; ++k) x[k] = sigmoid(x[k] + s[k]);
            x[2] = tanh(x[2] + x[0] * s[2]);
            state = (1.0f - x[1]) * x[2] + x[1] * state;
            kept[r.extra_at + row * r.h + j] = s[2];
        } else {
            state = x[0] + s[0];
            x[0] = state = r.relu ? (state < 0.0f ? 0.0f : state) : tanh(state);
        }
        for (k = 0; k < r.gates; ++k) gate[k * r.h] = x[k];
    }
    y[to] = real ? state : 0.0f;
    if (r.cells_at > 0) y[to + r.cells_at] = real ? extra : 0.0f;
    kept[state_after(&r, i, j, r.states_at, r.last_at)] = state;
    if (r.gates == 4) kept[state_after(&r, i, j, r.extra_at, r.last_extra_at)] = extra;
}
)

/* The same step backward: replaces the gates by the gradients of their sums. `d`: the gradients of
   the state [n, h] and of the cell [n, h], on entry after the step, 0 after the last one (`end`);
   on return before it, but without what comes through the gates. The GRU's gates have another
   gradient on the state's side than on the input's: it goes to `side`. */
FINETUNE_LINE FINETUNE_CL(recurrent_back,
__kernel void recurrent_back(__global float *kept, __global float *side, __global float *d,
                             __global const float *dy, __global const int *lengths, recurrent r,
                             int end)
{
    int item = get_global_id(0), i = item / r.h, j = item % r.h, row = i * r.steps + r.t, k;
    int wide = r.gates * r.h, from = row * r.outputs + r.output_at + j, real;
    __global float *gate = kept + r.gates_at + row * wide + j;
    float x[4], dh, dc, t, before, extra;
    if (i >= r.n) return;
    real = is_real(&r, lengths, i);
    dh = end ? 0.0f : d[item];
    dc = end || r.gates < 4 ? 0.0f : d[r.n * r.h + item];
    for (k = 0; k < r.gates; ++k) x[k] = real ? gate[k * r.h] : 0.0f;
    if (real) dh += dy[from];
    if (real && r.cells_at > 0) dc += dy[from + r.cells_at];
    if (real && r.gates == 4) {
        before = kept[r.extra_at + row * r.h + j];
        t = tanh(kept[state_after(&r, i, j, r.extra_at, r.last_extra_at)]);
        dc += dh * x[3] * (1.0f - t * t);
        gate[0] = dc * x[2] * x[0] * (1.0f - x[0]);
        gate[r.h] = dc * before * x[1] * (1.0f - x[1]);
        gate[2 * r.h] = dc * x[0] * (1.0f - x[2] * x[2]);
        gate[3 * r.h] = dh * t * x[3] * (1.0f - x[3]);
        dc *= x[1];
        dh = 0.0f;
    } else if (real && r.gates == 3) {
        before = kept[r.states_at + row * r.h + j];
        extra = kept[r.extra_at + row * r.h + j];
        t = dh * (1.0f - x[1]) * (1.0f - x[2] * x[2]);
        gate[2 * r.h] = t;
        gate[r.h] = dh * (before - x[2]) * x[1] * (1.0f - x[1]);
        gate[0] = t * extra * x[0] * (1.0f - x[0]);
        dh *= x[1];
    } else if (real) {
        gate[0] = r.relu ? (x[0] > 0.0f ? dh : 0.0f) : dh * (1.0f - x[0] * x[0]);
        dh = 0.0f;
    } else
        for (k = 0; k < r.gates; ++k) gate[k * r.h] = 0.0f;
    for (k = 0; r.gates == 3 && k < 3; ++k)
        side[row * wide + k * r.h + j] = k < 2 ? gate[k * r.h] : gate[2 * r.h] * x[0];
    d[item] = dh;
    if (r.gates == 4) d[r.n * r.h + item] = dc;
}
)

/* ---- Losses: the mean over the batch. Each sample's (or block's) share goes to `each` first, and
   one work-group sums them. ---- */

/* p = softmax(x) [N, classes], kept for backward; each[n] = -sum q log p, q as in operators/losses;
   each[N + n] = whether the label counts */
FINETUNE_LINE FINETUNE_CL(cross_entropy_forward,
int is_ignored(int label) { return label == -1 || label == -100; }

/* A row's loss; largest: of its logits, sum: of exp(x - largest), all: of -log(softmax(x)). */
float label_loss(__global const float *x, int label, int classes, float largest, float sum,
                 float all, float smoothing)
{
    if (label >= 0 && label < classes)
        return (1.0f - smoothing) * -(x[label] - largest - log(sum))
            + smoothing * all / (float)classes;
    return is_ignored(label) ? 0.0f : NAN;
}

__kernel void cross_entropy_forward(__global const float *x, __global const int *labels,
                                    __global float *p, __global float *each, int count,
                                    int classes, float smoothing)
{
    int n = get_global_id(0), label, i;
    float largest, sum = 0.0f, all = 0.0f;
    if (n >= count) return;
    x += n * classes;
    p += n * classes;
    label = labels[n];
    largest = x[0];
    for (i = 1; i < classes; ++i) largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
    for (i = 0; i < classes; ++i) sum += exp(x[i] - largest);
    for (i = 0; i < classes; ++i) {
        all -= x[i] - largest - log(sum);
        p[i] = exp(x[i] - largest) / sum;
    }
    each[n] = label_loss(x, label, classes, largest, sum, all, smoothing);
    each[count + n] = is_ignored(label) ? 0.0f : 1.0f;
}

/* The same for many classes: a work-group per row. */
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void cross_entropy_group_forward(__global const float *x, __global const int *labels,
                                 __global float *p, __global float *each, int count, int classes,
                                 float smoothing)
{
    __local float parts[GROUP];
    int n = get_group_id(0), item = get_local_id(0), label = labels[n], i;
    float largest = -INFINITY, sum = 0.0f, all = 0.0f;
    x += n * classes;
    p += n * classes;
    for (i = item; i < classes; i += GROUP) largest = fmax(largest, x[i]);
    largest = group_max(parts, item, largest);
    for (i = item; i < classes; i += GROUP) {
        p[i] = exp(x[i] - largest);
        sum += p[i];
    }
    sum = group_sum(parts, item, sum);
    for (i = item; i < classes; i += GROUP) {
        all -= x[i] - largest - log(sum);
        p[i] /= sum;
    }
    all = group_sum(parts, item, all);
    if (item > 0) return;
    each[n] = label_loss(x, label, classes, largest, sum, all, smoothing);
    each[count + n] = is_ignored(label) ? 0.0f : 1.0f;
}
)

/* loss = sum(each) / sum(counted); where `counted` is 0, / divisor. One group, whose items add every
   GROUP-th number. */
FINETUNE_LINE FINETUNE_CL(loss_mean,
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void loss_mean(__global const float *each, __global float *loss, int count, int counted,
               float divisor)
{
    __local float parts[GROUP];
    int item = get_local_id(0), n;
    float sum = 0.0f, lost = 0.0f, those = 0.0f;
    for (n = item; n < count; n += GROUP) { /* Kahan's sum */
        float y = each[n] - lost, t = sum + y;
        lost = t - sum - y;
        sum = t;
    }
    sum = group_sum(parts, item, sum);
    for (n = item; counted && n < count; n += GROUP) those += each[count + n];
    those = group_sum(parts, item, those);
    if (item == 0) loss[0] = sum / (counted ? those : divisor);
}

/* counted[0] = the number of labels that count: every number of the gradient needs it */
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void count_labels(__global const int *labels, __global float *counted, int count)
{
    __local float parts[GROUP];
    int item = get_local_id(0), n;
    float sum = 0.0f;
    for (n = item; n < count; n += GROUP) sum += is_ignored(labels[n]) ? 0.0f : 1.0f;
    sum = group_sum(parts, item, sum);
    if (item == 0) counted[0] = sum;
}
)

/* dx += dloss / counted[0] * (p - q) */
FINETUNE_LINE FINETUNE_CL(cross_entropy_backward,
__kernel void cross_entropy_backward(__global const float *p, __global const int *labels,
                                     __global const float *dloss, __global float *dx,
                                     __global const float *counted, int count, int classes,
                                     float smoothing)
{
    int i = get_global_id(0), n = i / classes, label;
    float scale;
    if (i >= count * classes) return;
    label = labels[n];
    if (label < 0 || label >= classes) return;
    scale = dloss[0] / counted[0];
    dx[i] += scale * (p[i] - smoothing / (float)classes
                      - (i % classes == label ? 1.0f - smoothing : 0.0f));
}
)

/* p = softmax(x); each[n] = -sum(t log p) */
FINETUNE_LINE FINETUNE_CL(soft_cross_entropy_forward,
__kernel void soft_cross_entropy_forward(__global const float *x, __global const float *t,
                                         __global float *p, __global float *each, int count,
                                         int classes)
{
    int n = get_global_id(0), i;
    float largest, sum = 0.0f, loss = 0.0f;
    if (n >= count) return;
    x += n * classes;
    t += n * classes;
    p += n * classes;
    largest = x[0];
    for (i = 1; i < classes; ++i) largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
    for (i = 0; i < classes; ++i) sum += exp(x[i] - largest);
    for (i = 0; i < classes; ++i) {
        if (t[i] != 0.0f) loss -= t[i] * (x[i] - largest - log(sum));
        p[i] = exp(x[i] - largest) / sum;
    }
    each[n] = loss;
}

/* sums[n] = the sum of a row of targets, which every number of the row's gradient needs */
__kernel void target_sums(__global const float *t, __global float *sums, int count, int classes)
{
    int n = get_global_id(0), k;
    float sum = 0.0f;
    if (n >= count) return;
    for (k = 0; k < classes; ++k) sum += t[n * classes + k];
    sums[n] = sum;
}

__kernel void soft_cross_entropy_backward(__global const float *p, __global const float *t,
                                          __global const float *dloss, __global float *dx,
                                          __global const float *sums, int count, int classes)
{
    int i = get_global_id(0);
    if (i >= count * classes) return;
    dx[i] += dloss[0] / (float)count * (p[i] * sums[i / classes] - t[i]);
}
)

/* each[part] = the sum over a block of a loss of x and t, as in operators/losses and more_losses */
FINETUNE_LINE FINETUNE_CL(pair_loss_forward,
enum { MSE, BINARY, L1, SMOOTH_L1, HUBER, SIGMOID_FOCAL }; /* as in devices/opencl_losses */

/* One element, its options a and b, and its slope by x. */
float element_loss(int kind, float a, float b, float x, float t, float *slope)
{
    float d = x - t, size = fabs(d), wrong, entropy, power, share;
    switch (kind) {
    case MSE: *slope = 2.0f * d; return d * d;
    case BINARY: *slope = sigmoid(x) - t; return softplus(x) - t * x;
    case L1: *slope = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d; return size;
    case SMOOTH_L1:
        *slope = size < a ? d / a : d < 0.0f ? -1.0f : 1.0f;
        return size < a ? 0.5f * d * d / a : size - 0.5f * a;
    case HUBER:
        *slope = size <= a ? d : d < 0.0f ? -a : a;
        return size <= a ? 0.5f * d * d : a * (size - 0.5f * a);
    default:
        wrong = sigmoid(x) * (1.0f - t) + sigmoid(-x) * t;
        entropy = t * softplus(-x) + (1.0f - t) * softplus(x);
        share = b < 0.0f ? 1.0f : b * t + (1.0f - b) * (1.0f - t);
        power = wrong > 0.0f ? exp(a * log(wrong)) : 0.0f;
        *slope = share * power * (sigmoid(x) - t);
        if (wrong > 0.0f)
            *slope -= share * a * (power / wrong) * (2.0f * t - 1.0f) * sigmoid(x) * sigmoid(-x)
                * entropy;
        return share * power * entropy;
    }
}

__kernel void pair_loss_forward(__global const float *x, __global const float *t,
                                __global float *each, int count, int block, int kind, float a,
                                float b)
{
    int part = get_global_id(0), i, end = min((part + 1) * block, count);
    float sum = 0.0f, slope;
    for (i = part * block; i < end; ++i) sum += element_loss(kind, a, b, x[i], t[i], &slope);
    if (part * block < count) each[part] = sum;
}

/* dx += dloss / count * slope, dt the same negative. wants: 1 dx, 2 dt */
__kernel void pair_loss_backward(__global const float *x, __global const float *t,
                                 __global const float *dloss, __global float *dx,
                                 __global float *dt, int count, int kind, float a, float b,
                                 int wants)
{
    int i = get_global_id(0);
    float d;
    if (i >= count) return;
    element_loss(kind, a, b, x[i], t[i], &d);
    d *= dloss[0] / (float)count;
    if (wants & 1) dx[i] += d;
    if (wants & 2) dt[i] -= d;
}
)

/* Losses of labels, a work-item per row: focal with gamma, or hinge with margin. scale times the row's
   gradient is added to dx, unless dx is 0. */
FINETUNE_LINE FINETUNE_CL(label_loss_forward,
float focal_row(__global const float *x, int label, int classes, float gamma, float scale,
                __global float *dx)
{
    float largest = x[0], sum = 0.0f, others = 0.0f, rest, log_p, power, slope;
    int i;
    for (i = 1; i < classes; ++i) largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < classes; ++i) {
        sum += exp(x[i] - largest);
        if (i != label) others += exp(x[i] - largest);
    }
    rest = others / sum;
    log_p = rest < 0.5f ? log1p(-rest) : x[label] - largest - log(sum);
    power = rest > 0.0f ? exp(gamma * log(rest)) : 0.0f;
    slope = -power + (rest > 0.0f ? gamma * (power / rest) * exp(log_p) * log_p : 0.0f);
    for (i = 0; dx && i < classes; ++i)
        dx[i] += scale * slope * ((i == label ? 1.0f : 0.0f) - exp(x[i] - largest) / sum);
    return -power * log_p;
}

float hinge_row(__global const float *x, int label, int classes, float margin, float scale,
                __global float *dx)
{
    float sum = 0.0f;
    int i;
    for (i = 0; i < classes; ++i) {
        float over = margin - x[label] + x[i];
        if (i == label || over <= 0.0f) continue;
        sum += over;
        if (dx) dx[i] += scale / (float)classes;
        if (dx) dx[label] -= scale / (float)classes;
    }
    return sum / (float)classes;
}

__kernel void label_loss_forward(__global const float *x, __global const int *labels,
                                 __global float *each, int count, int classes, int hinge, float a)
{
    int n = get_global_id(0), label;
    if (n >= count) return;
    label = labels[n];
    x += n * classes;
    each[count + n] = is_ignored(label) ? 0.0f : 1.0f;
    if (label < 0 || label >= classes) each[n] = is_ignored(label) ? 0.0f : NAN;
    else each[n] = hinge ? hinge_row(x, label, classes, a, 0.0f, 0)
                         : focal_row(x, label, classes, a, 0.0f, 0);
}

__kernel void label_loss_backward(__global const float *x, __global const int *labels,
                                  __global const float *dloss, __global float *dx,
                                  __global const float *counted, int count, int classes, int hinge,
                                  float a)
{
    int n = get_global_id(0), label;
    float scale = dloss[0] / counted[0];
    if (n >= count) return;
    label = labels[n];
    if (label < 0 || label >= classes) return;
    x += n * classes;
    dx += n * classes;
    if (hinge) hinge_row(x, label, classes, a, scale, dx);
    else focal_row(x, label, classes, a, scale, dx);
}
)

/* Which labels the output got right: for each row of logits, whether its label counts (1), and
   whether it is that of the maximum (2), the first of equals. */
FINETUNE_LINE FINETUNE_CL(score_rows,
__kernel void score_rows(__global const float *logits, __global const int *labels,
                         __global int *hits, int rows, int classes)
{
    int n = get_global_id(0), best = 0, i;
    if (n >= rows) return;
    logits += n * classes;
    for (i = 1; i < classes; ++i)
        if (logits[i] > logits[best]) best = i;
    hits[n] = is_ignored(labels[n]) ? 0 : best == labels[n] ? 3 : 1;
}
)

/* ---- Optimisers, as in optimizers/; gradients become zero for the next step. If step_guard finds
   a step not finite, the weights do not change. ---- */

/* A step's report, and whether it counts: from the sums of the gradients' squares, the loss (if
   has_loss) and the hits of score_rows.
       news: [0] loss, [1] factor of the gradients (scale, and clip / norm if below 1), both float;
             [2] 1: a loss is not finite, 2: a gradient; it stays, so that no later update happens
             [3] labels that count, [4] those that are right
   One group: each work-item adds every 256th number, then pairs of sums are added in a tree. */
FINETUNE_LINE FINETUNE_CL(step_guard,
typedef WIDEST widest;

__kernel __attribute__((reqd_work_group_size(256, 1, 1)))
void step_guard(__global const float *sums, int parts, __global const float *loss, int has_loss,
                float clip, float scale, __global const int *hits, int rows, __global int *news)
{
    __local widest squares[256];
    __local int counted[256], right[256];
    int at = get_local_id(0), half_of, i;
    widest sum = 0.0f, norm;
    counted[at] = right[at] = 0;
    for (i = at; i < parts; i += 256) sum += (widest)sums[i];
    for (i = at; i < rows; i += 256) {
        counted[at] += hits[i] & 1;
        right[at] += hits[i] >> 1;
    }
    squares[at] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (half_of = 128; half_of > 0; half_of /= 2) {
        if (at < half_of) {
            squares[at] += squares[at + half_of];
            counted[at] += counted[at + half_of];
            right[at] += right[at + half_of];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (at > 0) return;
    norm = sqrt(squares[0]) * (widest)scale;
    sum = (widest)clip / (norm + (widest)1.0f / (widest)1000000.0f);
    news[0] = has_loss ? as_int(loss[0]) : 0;
    news[1] = as_int(clip > 0.0f && sum < (widest)1.0f ? scale * (float)sum : scale);
    if (news[2] == 0 && has_loss && !(fabs(loss[0]) <= 3e38f)) news[2] = 1;
    if (news[2] == 0 && !(norm <= (widest)3e38f)) news[2] = 2;
    news[3] = counted[0];
    news[4] = right[0];
}
)

/* g = gradient * scale + weight_decay p; buffer = momentum buffer + g; p -= rate * buffer, or, with
   nesterov, rate * (g + momentum buffer) */
FINETUNE_LINE FINETUNE_CL(update_sgd,
__kernel void update_sgd(__global float *p, __global float *gradient, __global float *buffer,
                         int count, float rate, float decay, float momentum, int nesterov,
                         __global const int *news)
{
    int i = get_global_id(0);
    float g;
    if (i >= count) return;
    g = gradient[i] * as_float(news[1]) + decay * p[i];
    gradient[i] = 0.0f;
    if (news[2]) return;
    if (momentum != 0.0f) {
        buffer[i] = momentum * buffer[i] + g;
        g = nesterov ? g + momentum * buffer[i] : buffer[i];
    }
    p[i] -= rate * g;
}
)

/* m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
   p = p decay_weight - step m / (sqrt(v) / correction2 + eps) */
FINETUNE_LINE FINETUNE_CL(update_adam,
__kernel void update_adam(__global float *p, __global float *gradient, __global float *m,
                          __global float *v, int count, float step, float decay_weight,
                          float decay_gradient, float beta1, float beta2, float eps,
                          float correction2, __global const int *news)
{
    int i = get_global_id(0);
    float g;
    if (i >= count) return;
    g = gradient[i] * as_float(news[1]) + decay_gradient * p[i];
    gradient[i] = 0.0f;
    if (news[2]) return;
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
    p[i] = p[i] * decay_weight - step * m[i] / (sqrt(v[i]) / correction2 + eps);
}
)

/* RMSprop and Adagrad: v = kept v + added g^2; g / (sqrt(v) + eps), or with momentum
   buffer = momentum buffer + that, times the rate is the step */
FINETUNE_LINE FINETUNE_CL(update_squares,
__kernel void update_squares(__global float *p, __global float *gradient, __global float *v,
                             __global float *buffer, int count, float rate, float decay,
                             float kept, float added, float momentum, float eps,
                             __global const int *news)
{
    int i = get_global_id(0);
    float g;
    if (i >= count) return;
    g = gradient[i] * as_float(news[1]) + decay * p[i];
    gradient[i] = 0.0f;
    if (news[2]) return;
    v[i] = kept * v[i] + added * g * g;
    g /= sqrt(v[i]) + eps;
    if (momentum != 0.0f) {
        g += momentum * buffer[i];
        buffer[i] = g;
    }
    p[i] -= rate * g;
}
)

/* NAdam and RAdam: p -= rate (of_moment m + of_gradient g) / (of_root sqrt(v) + eps) */
FINETUNE_LINE FINETUNE_CL(update_nadam,
__kernel void update_nadam(__global float *p, __global float *gradient, __global float *m,
                           __global float *v, int count, float rate, float decay, float beta1,
                           float beta2, float of_moment, float of_gradient, float of_root,
                           float eps, __global const int *news)
{
    int i = get_global_id(0);
    float g;
    if (i >= count) return;
    g = gradient[i] * as_float(news[1]) + decay * p[i];
    gradient[i] = 0.0f;
    if (news[2]) return;
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
    p[i] -= rate * (of_moment * m[i] + of_gradient * g) / (of_root * sqrt(v[i]) + eps);
}
)

/* p = p decay_weight - rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g */
FINETUNE_LINE FINETUNE_CL(update_lion,
__kernel void update_lion(__global float *p, __global float *gradient, __global float *m,
                          int count, float rate, float decay_weight, float beta1, float beta2,
                          __global const int *news)
{
    int i = get_global_id(0);
    float g, way;
    if (i >= count) return;
    g = gradient[i] * as_float(news[1]);
    gradient[i] = 0.0f;
    if (news[2]) return;
    way = beta1 * m[i] + (1.0f - beta1) * g;
    p[i] = p[i] * decay_weight - (way > 0.0f ? rate : way < 0.0f ? -rate : 0.0f);
    m[i] = beta2 * m[i] + (1.0f - beta2) * g;
}
)

/* Adafactor (optimizers/adafactor) of a parameter [matrices, rows, columns]: moves its moments, of_row
   [matrices, rows] and of_column [matrices, columns]; then the means of of_row [matrices]. A vector
   has one row, and of_column alone. */
FINETUNE_LINE FINETUNE_CL(adafactor_moments,
__kernel void adafactor_rows(__global const float *g, __global float *of_row, int count,
                             int columns, float share, __global const int *news)
{
    int i = get_global_id(0), k;
    float sum = 0.0f, x;
    if (i >= count || news[2]) return;
    for (k = 0; k < columns; ++k) {
        x = g[(size_t)i * columns + k] * as_float(news[1]);
        sum += x * x;
    }
    of_row[i] += share * (sum / columns - of_row[i]);
}

__kernel void adafactor_columns(__global const float *g, __global float *of_column, int count,
                                int rows, int columns, float share, __global const int *news)
{
    int i = get_global_id(0), k;
    size_t first = (size_t)(i / columns) * rows * columns + i % columns;
    float sum = 0.0f, x;
    if (i >= count || news[2]) return;
    for (k = 0; k < rows; ++k) {
        x = g[first + (size_t)k * columns] * as_float(news[1]);
        sum += x * x;
    }
    of_column[i] += share * (sum / rows - of_column[i]);
}

__kernel void adafactor_means(__global const float *of_row, __global float *means, int count,
                              int rows, float least)
{
    int i = get_global_id(0), k;
    float sum = 0.0f;
    if (i >= count) return;
    for (k = 0; k < rows; ++k) sum += of_row[i * rows + k];
    means[i] = fmax(sum / rows, least);
}
)

/* The gradient becomes the update of unit size; 0 if nothing is to move. */
FINETUNE_LINE FINETUNE_CL(adafactor_scale,
__kernel void adafactor_scale(__global float *g, __global const float *of_row,
                              __global const float *of_column, __global const float *means,
                              int count, int rows, int columns, int vector, float least,
                              __global const int *news)
{
    int i = get_global_id(0), row = i / columns, matrix = row / rows;
    float v;
    if (i >= count) return;
    if (news[2]) {
        g[i] = 0.0f;
        return;
    }
    v = of_column[matrix * columns + i % columns];
    if (!vector) v *= of_row[row] / means[matrix];
    g[i] *= as_float(news[1]) / sqrt(fmax(v, least * least));
}
)

/* sums: of the squares of the weights and of the update, `parts` each, and then the step's size. */
FINETUNE_LINE FINETUNE_CL(adafactor_step,
__kernel void adafactor_size(__global float *sums, int parts, int count, float most)
{
    float of_weights = 0.0f, of_update = 0.0f;
    int i;
    if (get_global_id(0) > 0) return;
    for (i = 0; i < parts; ++i) {
        of_weights += sums[i];
        of_update += sums[parts + i];
    }
    sums[2 * parts] = fmax(sqrt(of_weights / count), 0.001f) * most
        / fmax(sqrt(of_update / count), 1.0f);
}

__kernel void update_adafactor(__global float *p, __global float *g, __global const float *step,
                               int at, int count, float decay_weight, __global const int *news)
{
    int i = get_global_id(0);
    if (i >= count) return;
    if (!news[2]) p[i] = p[i] * decay_weight - step[at] * g[i];
    g[i] = 0.0f;
}
)

/* sums[at + b] = the sum of squares of every parts-th number from b on */
FINETUNE_LINE FINETUNE_CL(squares,
__kernel void squares(__global const float *x, __global float *sums, int count, int parts, int at)
{
    int b = get_global_id(0), i;
    float sum = 0.0f;
    if (b >= parts) return;
    for (i = b; i < count; i += parts) sum += x[i] * x[i];
    sums[at + b] = sum;
}
)
