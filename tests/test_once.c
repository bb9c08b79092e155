/* test_once.c - values that follow from constants and weights alone are computed once, and again when
   the weights change: how often is counted by ft_desc.clock, and what is compared with plain loops. */
#include "finetune.h"
#include "check.h"

enum { SIZE = 3, CLASSES = 2, MOST = 7 };
static const int square[2] = {SIZE, SIZE};

static const char *device; /* NULL: the processor */

/* A clock that ticks at each call: an operator that ran once took 1. */
static double tick(void *user) { return *(double *)user += 1; }

/* y = x e, e = exp(a w), output = fc(y): e follows from the constant a and the weight w. x comes by
   two operators whose sum is nothing, and whose memory is free again before e is computed. */
typedef struct net { ft_model *m; ft_node x, w, product, e, output, target; bool kept; } net;

static float number(int i) { return (float)((i * 37 + 11) % 23) / 23 - 0.5f; }

static net make(double *ticks, size_t budget)
{
    ft_desc desc = {.threads = 1, .seed = 3, .clock = device ? NULL : tick, .clock_user = ticks,
                    .memory_budget = budget, .device = device};
    ft_input_options in = {.size = {SIZE}}, out = {.size = {CLASSES}};
    ft_parameter_options p = {.size = {SIZE, SIZE}};
    ft_unary_options plain = {0}, there = {.scale = 2, .shift = 1}, back = {.scale = 0.5f, .shift = -0.5f};
    ft_matmul_options as_it_is = {0};
    ft_linear_options layer = {0};
    float a[SIZE * SIZE], w[SIZE * SIZE];
    net n;
    ft_node x, y;
    int i;
    memset(&n, 0, sizeof n);
    for (i = 0; i < SIZE * SIZE; ++i) {
        a[i] = number(i);
        w[i] = 2 * number(i + 30);
    }
    n.m = ft_create(desc);
    n.x = ft_input(n.m, "input", in);
    x = ft_unary(n.m, "affine", "there", n.x, there);
    x = ft_unary(n.m, "affine", "back", x, back);
    n.w = ft_parameter(n.m, "w", p);
    ft_set(n.m, n.w, w, SIZE * SIZE);
    n.product = ft_mul(n.m, "product", ft_constant(n.m, "a", 2, square, a), n.w);
    n.e = ft_unary(n.m, "exp", "e", n.product, plain);
    y = ft_matmul(n.m, "y", x, n.e, as_it_is);
    n.output = ft_linear(n.m, "fc", y, CLASSES, layer);
    n.target = ft_input(n.m, "target", out);
    ft_set_output(n.m, n.output);
    ft_set_loss(n.m, ft_mse(n.m, "loss", n.output, n.target));
    return n;
}

/* How often a node was computed; not counted on a device. */
static int times(const net *n, ft_node node) { return (int)ft_node_time(n->m, node).forward; }

/* The output of these weights, by plain loops. */
static void expected(const net *n, const float *x, int batch, double *to)
{
    float w[SIZE * SIZE], fc[CLASSES * SIZE], bias[CLASSES];
    int s, i, j, c;
    ft_get(n->m, n->w, w, SIZE * SIZE);
    ft_get(n->m, ft_find(n->m, "fc.weight"), fc, CLASSES * SIZE);
    ft_get(n->m, ft_find(n->m, "fc.bias"), bias, CLASSES);
    for (s = 0; s < batch; ++s)
        for (c = 0; c < CLASSES; ++c) {
            double sum = bias[c];
            for (j = 0; j < SIZE; ++j)
                for (i = 0; i < SIZE; ++i)
                    sum += (double)x[s * SIZE + i] * (double)fc[c * SIZE + j]
                        * exp((double)number(i * SIZE + j) * (double)w[i * SIZE + j]);
            to[s * CLASSES + c] = sum;
        }
}

static void compare(const net *n, const char *when, const float *got, const double *want, int count)
{
    int i;
    CHECK(ft_error(n->m) == FT_OK, "%s: %s", when, ft_error_text(n->m));
    for (i = 0; i < count && CLOSE(got[i], want[i], 1e-5); ++i) {}
    CHECK(i == count, "%s: number %d is %g, not %g", when, i, (double)got[i], want[i]);
}

/* Predicts, and compares; `e` must have been computed so often by then. */
static void predict(const net *n, const char *when, int batch, int so_often)
{
    float x[MOST * SIZE], got[MOST * CLASSES];
    double want[MOST * CLASSES];
    int i;
    for (i = 0; i < batch * SIZE; ++i) x[i] = number(i + 5 * batch);
    ft_run(n->m, x, batch, got, (size_t)(batch * CLASSES));
    expected(n, x, batch, want);
    compare(n, when, got, want, batch * CLASSES);
    if (n->kept) { /* ft_keep(product) */
        ft_get(n->m, n->w, got, SIZE * SIZE);
        for (i = 0; i < SIZE * SIZE; ++i) want[i] = (double)number(i) * (double)got[i];
        ft_get(n->m, n->product, got, SIZE * SIZE);
        compare(n, when, got, want, SIZE * SIZE);
    }
    CHECK(device || (times(n, n->e) == so_often && times(n, n->product) == so_often), "%s: computed %d and %d"
          " times, not %d", when, times(n, n->product), times(n, n->e), so_often);
}

/* A step of training; what the output was before its update is compared. */
static void train(const net *n, const char *when, int so_often)
{
    float x[2 * SIZE], t[2 * CLASSES] = {1, 0, -1, 2}, got[2 * CLASSES];
    double want[2 * CLASSES];
    int i;
    for (i = 0; i < 2 * SIZE; ++i) x[i] = number(3 * i);
    ft_feed(n->m, n->x, x, 2);
    ft_feed(n->m, n->target, t, 2);
    expected(n, x, 2, want);
    ft_forward(n->m, true);
    ft_get(n->m, n->output, got, 2 * CLASSES);
    ft_backward(n->m);
    ft_update(n->m, 0.05f);
    compare(n, when, got, want, 2 * CLASSES);
    CHECK(device || times(n, n->e) == so_often, "%s: computed %d times, not %d", when,
          times(n, n->e), so_often);
}

static void test_changes(void)
{
    double ticks = 0;
    net n = make(&ticks, 0);
    float w[SIZE * SIZE];
    int i;
    n.kept = ft_keep(n.m, n.product) == FT_OK;
    predict(&n, "the first run", 3, 1);
    predict(&n, "the second run", 3, 1);
    predict(&n, "fewer samples", 1, 1);
    for (i = 0; i < SIZE * SIZE; ++i) w[i] = number(2 * i + 7);
    ft_set(n.m, n.w, w, SIZE * SIZE);
    predict(&n, "after ft_set", 3, 2);
    ft_initialise(n.m, "w", FT_INIT_DEFAULT);
    predict(&n, "after ft_initialise", 2, 3);
    predict(&n, "a larger batch, so a new plan", MOST, 4);
    ft_freeze(n.m, "w");
    train(&n, "frozen, the first step", 5);
    train(&n, "frozen, the second step", 5);
    ft_set(n.m, n.w, w, SIZE * SIZE);
    train(&n, "frozen, after ft_set", 6);
    train(&n, "frozen, a step more", 6);
    predict(&n, "after training", MOST, 7);
    predict(&n, "after training, again", MOST, 7);
    ft_unfreeze(n.m, "w");
    train(&n, "trained", 8);
    train(&n, "trained, with another w", 9);
    predict(&n, "of a trained w", 3, 10);
    train(&n, "trained, the third step", 11);
    predict(&n, "after the third step", 3, 12);
    predict(&n, "after the third step, again", 3, 12);
    ft_destroy(n.m);
}

/* Weights that are loaded. */
static void test_loaded(void)
{
    ft_save_options plain = {0};
    ft_weights_options all = {0};
    double ticks = 0;
    net n = make(&ticks, 0);
    float w[SIZE * SIZE] = {0};
    ft_save(n.m, "build/once.safetensors", plain);
    ft_set(n.m, n.w, w, SIZE * SIZE);
    predict(&n, "zeros", 2, 1);
    ft_load_weights(n.m, "build/once.safetensors", all);
    predict(&n, "after ft_load_weights", 2, 2);
    ft_destroy(n.m);
    remove("build/once.safetensors");
}

/* A running mean moves in training, though it is no parameter. */
static void test_statistics(void)
{
    double ticks = 0;
    ft_desc desc = {.threads = 1, .clock = tick, .clock_user = &ticks};
    ft_input_options in = {.size = {SIZE}};
    ft_batch_norm_options norm = {0};
    ft_unary_options plain = {0};
    ft_model *m = ft_create(desc);
    float x[2 * SIZE] = {1, 2, 3, 4, 5, 6}, t[2 * SIZE] = {0}, mean[2][SIZE], got[SIZE];
    ft_node h = ft_batch_norm(m, "bn", ft_input(m, "input", in), norm), e;
    int step, i;
    e = ft_unary(m, "exp", "e", ft_find(m, "bn.running_mean"), plain);
    ft_keep(m, e);
    h = ft_mul(m, "y", h, e);
    ft_set_output(m, h);
    ft_set_loss(m, ft_mse(m, "loss", h, ft_input(m, "target", in)));
    for (step = 0; step < 2; ++step) {
        ft_get(m, ft_find(m, "bn.running_mean"), mean[0], SIZE);
        ft_feed(m, ft_find(m, "input"), x, 2);
        ft_feed(m, ft_find(m, "target"), t, 2);
        ft_forward(m, true);
        ft_get(m, e, got, SIZE);
        ft_backward(m);
        ft_update(m, 0.01f);
        ft_get(m, ft_find(m, "bn.running_mean"), mean[1], SIZE);
        for (i = 0; i < SIZE; ++i) /* of before the step or after it, as the order has it */
            CHECK(mean[0][i] < mean[1][i] && (CLOSE(got[i], exp((double)mean[0][i]), 1e-5)
                  || CLOSE(got[i], exp((double)mean[1][i]), 1e-5)), "step %d: exp(%g or %g) is %g: %s",
                  step, (double)mean[0][i], (double)mean[1][i], (double)got[i], ft_error_text(m));
    }
    ft_destroy(m);
}

/* The user's own operator may give something else each time. */
static void count_forward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    int i;
    *(int *)user += 1;
    for (i = 0; i < SIZE * SIZE; ++i)
        output->values[i] = inputs[count - 1].values[i] * (float)*(int *)user;
}

static void test_callback(void)
{
    int calls = 0, run;
    ft_custom_options own = {.forward = count_forward, .user = &calls};
    ft_desc desc = {.threads = 1};
    ft_input_options in = {.size = {SIZE}};
    ft_matmul_options plain = {0};
    ft_model *m = ft_create(desc);
    const float one[SIZE * SIZE] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, x[SIZE] = {4, 5, 6};
    ft_node a = ft_constant(m, "a", 2, square, one), y;
    y = ft_matmul(m, "y", ft_input(m, "input", in), ft_custom(m, "own", &a, 1, own), plain);
    ft_set_output(m, y);
    for (run = 1; run <= 2; ++run) {
        float got[SIZE] = {0};
        ft_run(m, x, 1, got, SIZE);
        CHECK(calls == run && CLOSE(got[2], 6.0 * run, 0), "run %d: %d calls, %g: %s", run, calls,
              (double)got[2], ft_error_text(m));
    }
    ft_destroy(m);
}

/* A budget that leaves no room for what stays has it computed in each run. */
static void test_budget(void)
{
    double ticks = 0;
    net n = make(&ticks, 0);
    size_t total = ft_plan(n.m, 3, false).total, less;
    ft_destroy(n.m);
    n = make(&ticks, total);
    predict(&n, "with what ft_plan says", 3, 1);
    predict(&n, "with what ft_plan says, again", 3, 1);
    ft_destroy(n.m);
    for (less = 512; less <= 1024; less += 64) { /* a value takes 512 bytes at least */
        ticks = 0;
        n = make(&ticks, total - less);
        predict(&n, "with less", 3, 1);
        predict(&n, "with less, again", 3, 2);
        ft_destroy(n.m);
    }
}

static void open_device(void) { ft_destroy(ft_create((ft_desc){.device = "opencl:0:0"})); }

/* On an OpenCL device the values stay in its memory. */
static void test_device(void)
{
    bool there = check_survives(open_device);
    ft_model *m = there ? ft_create((ft_desc){.device = "opencl:0:0"}) : NULL;
    if (!there || ft_error(m)) SKIP("no OpenCL device here");
    else {
        device = "opencl:0:0";
        test_changes();
        test_loaded();
        device = NULL;
    }
    ft_destroy(m);
}

/* A convolution and its batch norm, which are one step, of a constant picture. */
static void test_norm(void)
{
    enum { OUT = 3 * 2 * 2 };
    static const int picture[4] = {1, 2, 4, 4}, flat[1] = {OUT};
    ft_conv2d_options conv = {.kernel = {3}};
    ft_input_options in = {.size = {OUT}};
    double ticks = 0;
    net n = {.m = ft_create((ft_desc){.threads = 1, .seed = 3, .clock = tick, .clock_user = &ticks})};
    float pixels[32], x[OUT], first[OUT], got[OUT];
    ft_node y;
    int i, run;
    for (i = 0; i < 32; ++i) pixels[i] = number(i);
    for (i = 0; i < OUT; ++i) x[i] = number(i + 3);
    n.x = ft_input(n.m, "input", in);
    y = ft_conv2d(n.m, "conv", ft_constant(n.m, "picture", 4, picture, pixels), 3, conv);
    y = ft_batch_norm(n.m, "norm", y, (ft_batch_norm_options){0});
    ft_set_output(n.m, ft_mul(n.m, "product", n.x, ft_reshape(n.m, "flat", y, 1, flat)));
    for (run = 0; run < 3; ++run) {
        ft_run(n.m, x, 1, run ? got : first, OUT);
        CHECK(!ft_error(n.m) && times(&n, ft_find(n.m, "conv")) == 1, "computed %d times: %s",
              times(&n, ft_find(n.m, "conv")), ft_error_text(n.m));
        CHECK(!run || !memcmp(first, got, sizeof got), "run %d has other bits", run);
    }
    ft_destroy(n.m);
}

int main(void)
{
    test_changes();
    test_loaded();
    test_statistics();
    test_norm();
    test_callback();
    test_budget();
    test_device();
    return check_done("test_once");
}
