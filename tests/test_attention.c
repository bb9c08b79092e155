/* test_attention.c - self-attention against naive loops in double written here: outputs, the loss,
   and each parameter's gradient by central differences of those loops. It is tested over sequences
   of any length after a causal convolution and a layer norm, and with several heads, where matrices
   are products of rank 4. */
#include "check.h"
#include "finetune.h"
#include "public.h"

enum { IN = 6, D = 8, HEADS = 2, EACH = D / HEADS, MOST = 16, BATCH = 3 };

typedef struct problem {
    ft_model *m;
    const char *names[8];       /* of the parameters */
    double *weights[8];
    int count, length;
    double x[BATCH * MOST * IN], target[BATCH * MOST * D], y[BATCH * MOST * D];
    void (*forward)(struct problem *p);
} problem;

/* y = softmax(q k^T) v for one sample and one head: `stride` from one step to the next. */
static void attend(const double *q, const double *k, const double *v, double *y, int steps, int width,
                   int stride)
{
    int t, s, c;
    for (t = 0; t < steps; ++t) {
        double score[MOST], largest = -1e300, sum = 0;
        for (s = 0; s < steps; ++s) {
            score[s] = 0;
            for (c = 0; c < width; ++c) score[s] += q[t * stride + c] * k[s * stride + c];
            if (score[s] > largest) largest = score[s];
        }
        for (s = 0; s < steps; ++s) sum += score[s] = exp(score[s] - largest);
        for (c = 0; c < width; ++c) {
            y[t * stride + c] = 0;
            for (s = 0; s < steps; ++s) y[t * stride + c] += score[s] / sum * v[s * stride + c];
        }
    }
}

/* A convolution that sees steps t, t - 2 and t - 4, layer norm, attention of its output on itself, and
   the sum of both. Weights: conv.weight [D, IN, 3], conv.bias, norm.weight, norm.bias. */
static void forward_causal(problem *p)
{
    int n, t, c, i, k;
    for (n = 0; n < BATCH; ++n) {
        double h[MOST * D];
        const double *x = p->x + n * p->length * IN;
        double *y = p->y + n * p->length * D;
        for (t = 0; t < p->length; ++t) {
            double mean = 0, square = 0;
            for (c = 0; c < D; ++c) {
                double sum = p->weights[1][c];
                for (k = 0; k < 3; ++k)
                    for (i = 0; i < IN && t - 4 + 2 * k >= 0; ++i)
                        sum += p->weights[0][(c * IN + i) * 3 + k] * x[(t - 4 + 2 * k) * IN + i];
                h[t * D + c] = sum;
                mean += sum / D;
            }
            for (c = 0; c < D; ++c) square += (h[t * D + c] - mean) * (h[t * D + c] - mean) / D;
            for (c = 0; c < D; ++c)
                h[t * D + c] = (h[t * D + c] - mean) / sqrt(square + 1e-6) * p->weights[2][c]
                    + p->weights[3][c];
        }
        attend(h, h, h, y, p->length, D, D);
        for (i = 0; i < p->length * D; ++i) y[i] += h[i];
    }
}

static void linear(const double *w, const double *bias, const double *x, double *y, int in)
{
    int c, i;
    for (c = 0; c < D; ++c) {
        y[c] = bias[c];
        for (i = 0; i < in; ++i) y[c] += w[c * in + i] * x[i];
    }
}

/* Weights: q, k, v and out, each with its bias. */
static void forward_heads(problem *p)
{
    int n, t, h, which;
    for (n = 0; n < BATCH; ++n) {
        double parts[3][MOST * D], mixed[MOST * D];
        for (t = 0; t < p->length; ++t)
            for (which = 0; which < 3; ++which)
                linear(p->weights[2 * which], p->weights[2 * which + 1],
                       p->x + (n * p->length + t) * IN, parts[which] + t * D, IN);
        for (h = 0; h < HEADS; ++h)
            attend(parts[0] + h * EACH, parts[1] + h * EACH, parts[2] + h * EACH, mixed + h * EACH,
                   p->length, EACH, D);
        for (t = 0; t < p->length; ++t)
            linear(p->weights[6], p->weights[7], mixed + t * D, p->y + (n * p->length + t) * D, D);
    }
}

static double loss_of(problem *p)
{
    double sum = 0;
    int i, count = BATCH * p->length * D;
    p->forward(p);
    for (i = 0; i < count; ++i) sum += (p->y[i] - p->target[i]) * (p->y[i] - p->target[i]);
    return sum / count;
}

static ft_model *causal_model(const char *simd)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 4, .simd = simd});
    int turned[] = {0, 2, 1};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, IN}}), scores;
    x = ft_permute(m, "channels", x, 3, turned);
    x = ft_conv1d(m, "conv", x, D, (ft_conv1d_options){.kernel = 3, .dilation = 2, .causal = true});
    x = ft_permute(m, "steps", x, 3, turned);
    x = ft_layer_norm(m, "norm", x, (ft_layer_norm_options){.eps = 1e-6f});
    scores = ft_matmul(m, "scores", x, x, (ft_matmul_options){.transpose_b = true});
    scores = ft_activation(m, "softmax", "weights", scores, (ft_activation_options){.axis = 0});
    x = ft_add(m, "residual", x, ft_matmul(m, "mixed", scores, x, (ft_matmul_options){0}));
    ft_set_output(m, x);
    ft_set_loss(m, ft_mse(m, "loss", x, ft_input(m, "target", (ft_input_options){
                                                                  .size = {FT_LENGTH, D}})));
    return m;
}

/* [N, L, D] -> [N, heads, L, D / heads] */
static ft_node heads_of(ft_model *m, const char *name, ft_node x, int length)
{
    int size[] = {length, HEADS, EACH}, axes[] = {0, 2, 1, 3};
    x = ft_linear(m, name, x, D, (ft_linear_options){0});
    return ft_permute(m, NULL, ft_reshape(m, NULL, x, 3, size), 4, axes);
}

static ft_model *heads_model(const char *simd, int length)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 5, .simd = simd});
    int size[] = {length, D}, axes[] = {0, 2, 1, 3};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {length, IN}}), y;
    y = ft_matmul(m, NULL, heads_of(m, "q", x, length), heads_of(m, "k", x, length),
                  (ft_matmul_options){.transpose_b = true});
    y = ft_matmul(m, NULL, ft_activation(m, "softmax", NULL, y, (ft_activation_options){0}),
                  heads_of(m, "v", x, length), (ft_matmul_options){0});
    y = ft_reshape(m, NULL, ft_permute(m, NULL, y, 4, axes), 2, size);
    y = ft_linear(m, "out", y, D, (ft_linear_options){0});
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, ft_input(m, "target", (ft_input_options){.size = {length, D}})));
    return m;
}

static void close_arrays(const char *what, const float *got, const double *want, size_t count,
                         double tolerance)
{
    double largest = 1e-3; /* a gradient that is zero for certain, as that of k.bias, is rounding */
    size_t i;
    for (i = 0; i < count; ++i)
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    for (i = 0; i < count; ++i)
        if (!CLOSE(got[i], want[i], tolerance * largest)) break;
    CHECK(i == count, "%s: [%d] is %g, not %g", what, (int)i, (double)got[i], want[i]);
}

/* Weights that make scores of order 1, in the model and in the oracle. */
static void draw(problem *p)
{
    static unsigned state = 1;
    int w;
    size_t i;
    for (w = 0; w < p->count; ++w) {
        ft_node node = ft_find(p->m, p->names[w]);
        size_t count = numbers_of(p->m, node);
        float *values = (float *)calloc(count, sizeof *values);
        p->weights[w] = (double *)calloc(count, sizeof **p->weights);
        if (!values || !p->weights[w]) exit(1);
        for (i = 0; i < count; ++i) {
            state = state * 1664525u + 1013904223u;
            values[i] = (float)(state >> 8) / 16777216.0f - 0.5f;
            p->weights[w][i] = (double)values[i];
        }
        ft_set(p->m, node, values, count);
        free(values);
    }
}

static void check_problem(problem *p, const char *what)
{
    static float x[BATCH * MOST * IN], target[BATCH * MOST * D], y[BATCH * MOST * D];
    size_t outputs = (size_t)(BATCH * p->length * D), i;
    char text[100];
    int w;
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) p->x[i] = x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (i = 0; i < sizeof target / sizeof target[0]; ++i)
        p->target[i] = target[i] = (float)(i * 53 % 97) / 48 - 1;
    ft_set_length(p->m, p->length);
    ft_run(p->m, x, BATCH, y, outputs);
    p->forward(p);
    close_arrays(what, y, p->y, outputs, 1e-5);
    ft_feed(p->m, ft_find(p->m, "input"), x, BATCH);
    ft_feed(p->m, ft_find(p->m, "target"), target, BATCH);
    CHECK(CLOSE(ft_forward(p->m, true), loss_of(p), 1e-5 * loss_of(p)), "%s: the loss", what);
    ft_backward(p->m);
    for (w = 0; w < p->count; ++w) {
        ft_node node = ft_find(p->m, p->names[w]);
        size_t count = numbers_of(p->m, node);
        float *got = (float *)calloc(count, sizeof *got);
        double *want = (double *)calloc(count, sizeof *want);
        if (!got || !want) exit(1);
        ft_get_gradient(p->m, node, got, count);
        for (i = 0; i < count; ++i) {
            double kept = p->weights[w][i], high;
            p->weights[w][i] = kept + 1e-5;
            high = loss_of(p);
            p->weights[w][i] = kept - 1e-5;
            want[i] = (high - loss_of(p)) / 2e-5;
            p->weights[w][i] = kept;
        }
        snprintf(text, sizeof text, "%s, gradient of %s", what, p->names[w]);
        close_arrays(text, got, want, count, 1e-4);
        free(got);
        free(want);
    }
    ft_update(p->m, 0); /* the gradients are zero again */
    CHECK(ft_error(p->m) == FT_OK, "%s: %s", what, ft_error_text(p->m));
}

static void run_problem(problem *p, const char *what, int length)
{
    int w;
    p->length = length;
    draw(p);
    check_problem(p, what);
    for (w = 0; w < p->count; ++w) free(p->weights[w]);
}

int main(void)
{
    static const char *const levels[] = {"none", NULL};
    static problem causal = {.count = 4, .forward = forward_causal,
                             .names = {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}};
    static problem heads = {.count = 8, .forward = forward_heads,
                            .names = {"q.weight", "q.bias", "k.weight", "k.bias", "v.weight",
                                      "v.bias", "out.weight", "out.bias"}};
    int i;
    for (i = 0; i < 2; ++i) {
        static const int lengths[] = {9, 1, 5, MOST}; /* longer and shorter ones without a new plan */
        size_t k;
        causal.m = causal_model(levels[i]);
        for (k = 0; k < 4; ++k) run_problem(&causal, "a causal layer", lengths[k]);
        ft_destroy(causal.m);
        for (k = 0; k < 4; ++k) {
            heads.m = heads_model(levels[i], lengths[k]);
            run_problem(&heads, "heads", lengths[k]);
            ft_destroy(heads.m);
        }
    }
    return check_done("test_attention");
}
