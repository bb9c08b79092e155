/* test_nodes.c - any node's value after a run (ft_keep) and the gradient of inputs and other nodes
   (ft_want_gradient), against PyTorch (tests/golden/nodes.safetensors) and finite differences. */
#include "public.h"
#include "goldens.h"

#define GOLDEN "tests/golden/nodes.safetensors"

enum { BATCH = 2, MOST = 2 * 4 * 8 * 8 };

static ft_file *golden;

/* Reads a tensor of the golden file; returns how many numbers it has. */
static size_t wanted(const char *name, float *to)
{
    int at = ft_file_find(golden, name), d;
    ft_tensor_info info;
    size_t count = 1;
    if (at < 0) {
        CHECK(false, "%s: no %s", GOLDEN, name);
        exit(1);
    }
    info = ft_file_tensor(golden, at);
    for (d = 0; d < info.shape.rank; ++d) count *= (size_t)info.shape.size[d];
    ft_file_read_f32(golden, at, to, count);
    return count;
}

static ft_node norm(ft_model *m, const char *name, ft_node x)
{
    return ft_batch_norm(m, name, x, (ft_batch_norm_options){0});
}

static ft_node relu(ft_model *m, const char *name, ft_node x)
{
    return ft_activation(m, "relu", name, x, (ft_activation_options){0});
}

static const char *const nodes[] = {"conv1", "bn1", "relu1", "pool", "conv2", "bn2", "sum", "relu2", "gap",
                                    "output", "loss"};
enum { NODES = sizeof nodes / sizeof nodes[0] };

/* The network of make_nodes.py; "conv1.weight" and so on from the golden file. */
static ft_model *network(size_t budget)
{
    ft_desc desc = {.seed = 1, .threads = 2, .memory_budget = budget};
    ft_model *m = ft_create(desc);
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}, .no_bias = true};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, 8, 8}}), a, b;
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    a = relu(m, "relu1", norm(m, "bn1", ft_conv2d(m, "conv1", x, 4, conv)));
    a = ft_max_pool2d(m, "pool", a, (ft_pool2d_options){.kernel = {2}});
    b = norm(m, "bn2", ft_conv2d(m, "conv2", a, 4, conv));
    a = relu(m, "relu2", ft_add(m, "sum", b, a));
    a = ft_flatten(m, "flat", ft_global_avg_pool(m, "gap", a));
    a = ft_linear(m, "fc", a, 3, (ft_linear_options){0});
    ft_set_output(m, a);
    ft_set_loss(m, ft_cross_entropy(m, "loss", a, labels, (ft_loss_options){0}));
    ft_load_weights(m, GOLDEN, (ft_weights_options){.allow_unexpected = true});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static ft_node node_named(ft_model *m, const char *name)
{
    return strcmp(name, "output") ? ft_find(m, name) : ft_output(m);
}

static void feed(ft_model *m)
{
    static const int labels[BATCH] = {2, 0};
    float x[MOST];
    wanted("input", x);
    ft_feed(m, ft_find(m, "input"), x, BATCH);
    ft_feed(m, ft_find(m, "labels"), labels, BATCH);
}

static void step(ft_model *m)
{
    feed(m);
    ft_forward(m, true);
    ft_backward(m);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* Compares what a call copied out with a golden tensor: 1e-5 of the largest number. */
static void compare(ft_model *m, const char *mode, const char *name, bool gradient)
{
    float want[MOST], got[MOST], most = 0;
    char key[64];
    size_t count, i, bad = 0;
    snprintf(key, sizeof key, "%s/%s%s", mode, name, gradient ? ".grad" : "");
    count = wanted(key, want);
    if (gradient) ft_get_gradient(m, node_named(m, name), got, count);
    else ft_get(m, node_named(m, name), got, count);
    CHECK(ft_error(m) == FT_OK, "%s: %s", key, ft_error_text(m));
    if (ft_error(m)) {
        ft_clear_error(m);
        return;
    }
    for (i = 0; i < count; ++i) if (fabsf(want[i]) > most) most = fabsf(want[i]);
    for (i = 0; i < count; ++i) bad += !CLOSE(got[i], want[i], 1e-5 * (double)most + 1e-9);
    CHECK(bad == 0, "%s: %zu of %zu numbers differ; the first is %g, wanted %g", key, bad, count,
          (double)got[0], (double)want[0]);
}

/* ---- Against PyTorch: each node alone (`which`; -1: the input, NODES: all of them at once), its value,
   its gradient, or both ---- */
static void try_nodes(bool frozen, int which, bool value, bool gradient)
{
    const char *mode = frozen ? "eval" : "train";
    bool input = gradient && (which < 0 || which == NODES);
    ft_model *m = network(0);
    int i;
    if (frozen) ft_freeze(m, "*");
    for (i = 0; i < NODES; ++i) {
        if (which != NODES && which != i) continue;
        if (value) ft_keep(m, node_named(m, nodes[i]));
        if (gradient) ft_want_gradient(m, node_named(m, nodes[i]));
    }
    if (input) ft_want_gradient(m, ft_find(m, "input"));
    feed(m);
    ft_forward(m, true);
    if (gradient || !frozen) ft_backward(m);
    for (i = 0; i < NODES; ++i) {
        if (which != NODES && which != i) continue;
        if (value) compare(m, mode, nodes[i], false);
        if (gradient) compare(m, mode, nodes[i], true);
    }
    if (input) compare(m, mode, "input", true);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_golden(void)
{
    int frozen, which, budget;
    for (frozen = 0; frozen < 2; ++frozen)
        for (which = -1; which <= NODES; ++which) {
            if (which >= 0) try_nodes(frozen, which, true, false);
            if (frozen && which == NODES - 1) continue; /* the loss's own gradient needs no backward */
            try_nodes(frozen, which, false, true);
            if (which >= 0) try_nodes(frozen, which, true, true);
        }
    /* The same where a budget has most values computed again in backward. */
    for (budget = 0; budget < 2; ++budget) {
        ft_model *m = network(0);
        size_t least;
        ft_keep(m, ft_find(m, "bn1"));
        ft_keep(m, ft_find(m, "sum"));
        ft_want_gradient(m, ft_find(m, "conv2"));
        ft_want_gradient(m, ft_find(m, "input"));
        least = ft_plan(m, BATCH, true).total;
        ft_destroy(m);
        m = network(budget ? least : least - 500);
        ft_keep(m, ft_find(m, "bn1"));
        ft_keep(m, ft_find(m, "sum"));
        ft_want_gradient(m, ft_find(m, "conv2"));
        ft_want_gradient(m, ft_find(m, "input"));
        step(m);
        compare(m, "train", "bn1", false);
        compare(m, "train", "sum", false);
        compare(m, "train", "conv2", true);
        compare(m, "train", "input", true);
        ft_destroy(m);
    }
}

/* In evaluation the values are those of the frozen network; with and without labels, and of ft_run. */
static void test_evaluation(void)
{
    int how, i;
    for (how = 0; how < 3; ++how) {
        ft_model *m = network(0);
        float x[MOST], y[BATCH * 3];
        for (i = 0; i < NODES; ++i) ft_keep(m, node_named(m, nodes[i]));
        wanted("input", x);
        feed(m);
        if (how == 2) ft_run(m, x, BATCH, y, BATCH * 3);
        else {
            if (how == 1) ft_feed(m, ft_find(m, "input"), x, BATCH);
            ft_forward(m, false);
        }
        for (i = 0; i < NODES; ++i)
            if (strcmp(nodes[i], "loss") != 0 || how < 2) compare(m, "eval", nodes[i], false);
        ft_destroy(m);
    }
}

/* ---- Several outputs: a node that neither output nor loss reads ---- */
static void test_several_outputs(void)
{
    ft_model *m = network(0);
    ft_node side = ft_linear(m, "side", ft_find(m, "flat"), 5, (ft_linear_options){0}), both;
    ft_node other = ft_input(m, "other", (ft_input_options){.size = {5}});
    float x[MOST], y[BATCH * 3], flat[8], weight[20], bias[5], got[10], more[10];
    const float five[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    int n, k, i;
    both = ft_add(m, "both", side, other); /* reads an input that the output does not */
    ft_keep(m, side);
    ft_keep(m, both);
    ft_keep(m, ft_find(m, "flat"));
    wanted("input", x);
    CHECK(ft_run(m, x, BATCH, y, BATCH * 3) == FT_OK, "%s", ft_error_text(m));
    ft_get(m, side, got, 10);
    ft_get(m, ft_find(m, "flat"), flat, 8);
    ft_get(m, ft_find(m, "side.weight"), weight, 20);
    ft_get(m, ft_find(m, "side.bias"), bias, 5);
    for (n = 0; n < BATCH; ++n)
        for (k = 0; k < 5; ++k) {
            double want = (double)bias[k];
            for (i = 0; i < 4; ++i) want += (double)flat[4 * n + i] * (double)weight[4 * k + i];
            CHECK(CLOSE(got[5 * n + k], want, 1e-5), "side %d, %d: %g, not %g", n, k, (double)got[5 * n + k],
                  want);
        }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_get(m, both, more, 10);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "was not computed in the last run"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    feed(m);
    ft_feed(m, other, five, BATCH);
    ft_forward(m, false);
    ft_get(m, both, more, 10);
    for (i = 0; i < 10; ++i) CHECK(CLOSE(more[i], got[i] + five[i], 1e-6), "both %d", i);
    /* Training: the side has no part in the loss, its layer no gradient. */
    feed(m);
    ft_feed(m, other, five, BATCH);
    ft_want_gradient(m, side);
    ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, ft_find(m, "side.weight"), weight, 20);
    for (i = 0; i < 20; ++i) CHECK(weight[i] == 0, "side.weight %d has the gradient %g", i, (double)weight[i]);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_get_gradient(m, side, got, 10);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "the loss does not depend on it"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* ---- Bits: keeping a node changes no training step; forgetting it gives the old plan back ---- */
static void test_bits(void)
{
    uint64_t want = 0;
    size_t plain = 0;
    int how, i;
    for (how = 0; how < 4; ++how) {
        ft_model *m = network(0);
        for (i = 0; i < NODES && how > 0; ++i) {
            if (how != 2) ft_keep(m, node_named(m, nodes[i]));
            if (how != 1) ft_want_gradient(m, node_named(m, nodes[i]));
        }
        if (how > 1) ft_want_gradient(m, ft_find(m, "input"));
        if (how == 3) for (i = 0; i < NODES; ++i) ft_forget(m, node_named(m, nodes[i]));
        if (how == 3) ft_forget(m, ft_find(m, "input"));
        if (how == 0) plain = ft_plan(m, BATCH, true).activations;
        else if (how < 3) CHECK(ft_plan(m, BATCH, true).activations > plain, "%d: memory of their own", how);
        else CHECK(ft_plan(m, BATCH, true).activations == plain, "forgotten");
        for (i = 0; i < 3; ++i) {
            step(m);
            ft_update(m, 0.01f);
        }
        if (how == 0) want = fingerprint(m);
        CHECK(fingerprint(m) == want, "%d: other weights", how);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Other operators: gradients of an input by central differences ---- */

/* Those that change shapes, take numbers from places, or find places; x [N, 4, 5]. */
static ft_node build_shapes(ft_model *m, int which, ft_node x)
{
    static const int picture[] = {1, 4, 5}, three[] = {3};
    static const float places[] = {3, 0.5f, 3};
    ft_unary_options none = {.scale = 0};
    ft_reduce_options by_step = {.axes = {1}, .count = 1, .keep = true};
    ft_node y = x, z;
    switch (which) {
    case 0: return ft_resize(m, "l", x, (ft_resize_options){.scale = {1.6f}, .mode = FT_RESIZE_LINEAR});
    case 1:
        y = ft_conv_transpose2d(m, "l", ft_reshape(m, NULL, x, 3, picture), 3, (ft_conv_transpose2d_options){
            .kernel = {3}, .stride = {2}, .padding = {1}, .output_padding = {1}});
        return ft_resize(m, "r", y, (ft_resize_options){.size = {3, 4}});
    case 2: return ft_gather(m, "l", x, ft_topk(m, NULL, x, (ft_topk_options){.count = 2, .axis = 1}), 1);
    case 3: return ft_cumsum(m, "l", ft_tile(m, NULL, x, (ft_tile_options){.repeats = {1, 2}}),
                             (ft_cumsum_options){.axis = 1});
    case 4: return ft_pad(m, "l", x, (ft_pad_options){.before = {0, 3}, .after = {0, 1, 2}, .mode = FT_PAD_REFLECT});
    case 5: return ft_binary(m, "expand_as", "l", ft_reduce(m, "logsumexp", NULL, x, by_step), x);
    case 6:
        z = ft_unary(m, "to_i32", NULL, ft_constant(m, "places", 1, three, places), none);
        return ft_gather(m, "l", x, z, 2);
    case 7: return ft_binary(m, "power", "l", ft_unary(m, "exp", NULL, x, none), x);
    case 8: /* by the place of the largest, as a number */
        z = ft_unary(m, "to_f32", NULL, ft_topk(m, NULL, x, (ft_topk_options){.drop_axis = true}), none);
        return ft_mul(m, "l", ft_reduce(m, "norm", NULL, x, (ft_reduce_options){.axes = {-1}, .count = 1}), z);
    default: return (ft_node){0};
    }
}

static ft_node build(ft_model *m, int which, ft_node x, bool frozen)
{
    ft_node y = x, one[2];
    ft_recurrent_options r = {.layers = 2, .bidirectional = true};
    ft_conv1d_options c = {.kernel = 3, .same = true};
    switch (which) {
    case 0: y = ft_lstm(m, "l", x, 3, r); break;
    case 1: y = ft_gru(m, "l", x, 3, r); break;
    case 2: y = ft_layer_norm(m, "l", x, (ft_layer_norm_options){0}); break;
    case 3: y = ft_matmul(m, "l", x, x, (ft_matmul_options){.transpose_b = true}); break;
    case 4: y = ft_activation(m, "softmax", "l", x, (ft_activation_options){0}); break;
    case 5: one[0] = x; one[1] = ft_activation(m, "gelu", "g", x, (ft_activation_options){0});
        y = ft_concat(m, "l", 2, one, 2); break;
    case 6: y = ft_conv1d(m, "l", ft_permute(m, NULL, x, 3, (const int[]){0, 2, 1}), 3, c); break;
    case 7: y = ft_mul(m, "l", ft_activation(m, "sigmoid", "g", x, (ft_activation_options){0}), x); break;
    case 8: y = ft_step_pool(m, "l", x, (ft_node){0}, (ft_step_pool_options){.kind = FT_POOL_MAX}); break;
    case 9: y = ft_linear(m, "l", ft_activation(m, "elu", "g", x, (ft_activation_options){0}), 4,
                          (ft_linear_options){0}); break;
    case 10: y = ft_attention(m, "l", x, x, x, (ft_attention_options){.causal = true}); break;
    default: y = build_shapes(m, which - 11, x);
    }
    if (frozen) ft_freeze(m, "*");
    return y;
}

static void test_differences(void)
{
    enum { STEPS = 4, WIDE = 5, COUNT = BATCH * STEPS * WIDE };
    int which, frozen, i;
    for (which = 0; which < 20; ++which)
        for (frozen = 0; frozen < 2; ++frozen) {
            ft_model *m = ft_create((ft_desc){.seed = 5, .threads = 1});
            ft_node x = ft_input(m, "x", (ft_input_options){.size = {STEPS, WIDE}}), y, target;
            float values[COUNT], at[COUNT], gradient[COUNT], goal[BATCH * 3];
            const double h = 0.02;
            y = build(m, which, x, false);
            y = ft_linear(m, "end", ft_flatten(m, NULL, y), 3, (ft_linear_options){0});
            target = ft_input(m, "target", (ft_input_options){.size = {3}});
            ft_set_output(m, y);
            ft_set_loss(m, ft_mse(m, "loss", y, target));
            if (frozen) ft_freeze(m, "*");
            ft_want_gradient(m, x);
            for (i = 0; i < COUNT; ++i) values[i] = (float)sin(1.7 * i + which) + 0.05f;
            for (i = 0; i < BATCH * 3; ++i) goal[i] = (float)cos(3.1 * i);
            ft_feed(m, x, values, BATCH);
            ft_feed(m, target, goal, BATCH);
            ft_forward(m, true);
            ft_backward(m);
            CHECK(ft_get_gradient(m, x, gradient, COUNT) == FT_OK, "%d: %s", which, ft_error_text(m));
            for (i = 0; i < COUNT; i += 3) {
                double side[2], want;
                int s;
                for (s = 0; s < 2; ++s) {
                    memcpy(at, values, sizeof at);
                    at[i] += (float)(s ? -h : h);
                    ft_feed(m, x, at, BATCH);
                    side[s] = (double)ft_forward(m, false);
                }
                want = (side[0] - side[1]) / (2 * h);
                CHECK(CLOSE(gradient[i], want, 2e-3 * fabs(want) + 4e-4), "operator %d, frozen %d, number %d: %g, by"
                      " differences %g", which, frozen, i, (double)gradient[i], want);
            }
            CHECK(ft_error(m) == FT_OK, "%d: %s", which, ft_error_text(m));
            ft_destroy(m);
        }
}

/* ---- An adversarial example: a step along the sign of the gradient raises the loss ---- */
static void test_adversarial(void)
{
    ft_model *m = network(0);
    float x[MOST], gradient[MOST], before, after;
    size_t count = wanted("input", x), i;
    uint64_t weights;
    static const int labels[BATCH] = {2, 0};
    ft_freeze(m, "*");
    weights = fingerprint(m);
    ft_want_gradient(m, ft_find(m, "input"));
    feed(m);
    before = ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, ft_find(m, "input"), gradient, count);
    for (i = 0; i < count; ++i) x[i] += gradient[i] > 0 ? 0.05f : -0.05f;
    ft_feed(m, ft_find(m, "input"), x, BATCH);
    ft_feed(m, ft_find(m, "labels"), labels, BATCH);
    after = ft_forward(m, true);
    CHECK(after > before + 0.01f, "%g, then %g", (double)before, (double)after);
    CHECK(fingerprint(m) == weights, "frozen weights and statistics do not change");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- ft_fit: nodes are kept there too, and a cached frozen prefix says that it has none ---- */
typedef struct seen { ft_model *m; int steps; ft_status gap, norm; } seen;

static bool look(void *user, const ft_progress *p)
{
    seen *s = (seen *)user;
    float numbers[MOST];
    if (p->epoch_done || p->preparing) return true;
    s->steps += 1;
    s->gap = ft_get(s->m, ft_find(s->m, "gap"), numbers, BATCH * 4);
    s->norm = ft_get(s->m, ft_find(s->m, "bn1"), numbers, BATCH * 4 * 8 * 8);
    ft_clear_error(s->m);
    return true;
}

static void test_fit(void)
{
    int cached;
    for (cached = 0; cached < 2; ++cached) {
        ft_model *m = network(0);
        float x[8 * 3 * 8 * 8];
        seen s = {m, 0, FT_OK, FT_OK};
        int labels[8], i;
        ft_data *data;
        for (i = 0; i < (int)(sizeof x / sizeof *x); ++i) x[i] = (float)sin(0.37 * i);
        for (i = 0; i < 8; ++i) labels[i] = i % 3;
        data = ft_arrays(m, 8, x, labels, (ft_array_options){0});
        if (cached) ft_freeze(m, "conv1*,bn1*");
        ft_keep(m, ft_find(m, "bn1"));
        ft_keep(m, ft_find(m, "gap"));
        ft_fit(m, data, (ft_fit_options){.epochs = 1, .batch_size = BATCH, .progress = look,
                                         .progress_user = &s});
        CHECK(s.steps == 4 && s.gap == FT_OK && s.norm == (cached ? FT_INVALID : FT_OK), "cached %d: %d %d %d",
              cached, s.steps, s.gap, s.norm);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Errors ---- */
static void refused(ft_model *m, const char *text)
{
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), text), "'%s' is expected, not '%s'", text,
          ft_error_text(m));
    ft_clear_error(m);
}

static void test_errors(void)
{
    ft_model *m = network(0);
    float x[MOST];
    ft_node conv = ft_find(m, "conv1"), input = ft_find(m, "input");
    feed(m);
    ft_forward(m, true);
    ft_get(m, conv, x, MOST);
    refused(m, "and nodes of ft_keep");
    ft_keep(m, conv);
    ft_want_gradient(m, conv);
    ft_get(m, conv, x, MOST);
    refused(m, "ft_keep came after it");
    ft_get_gradient(m, conv, x, MOST);
    refused(m, "has no gradient yet");
    ft_forward(m, true);
    ft_get_gradient(m, conv, x, MOST);
    refused(m, "has no gradient yet");
    ft_backward(m);
    CHECK(ft_get_gradient(m, conv, x, MOST) == FT_OK, "%s", ft_error_text(m));
    ft_get_gradient(m, conv, x, MOST - 1);
    CHECK(ft_error(m) == FT_SHAPE, "%s", ft_error_text(m));
    ft_clear_error(m);
    feed(m);
    ft_get_gradient(m, conv, x, MOST);
    refused(m, "has no gradient yet");
    ft_get(m, conv, x, MOST);
    refused(m, "since the last ft_feed");
    ft_get_gradient(m, input, x, MOST);
    refused(m, "ft_want_gradient");
    ft_keep(m, input);
    refused(m, "ft_keep: input has no effect");
    ft_keep(m, ft_find(m, "fc.weight"));
    refused(m, "fc.weight has no effect");
    ft_want_gradient(m, ft_find(m, "fc.weight"));
    refused(m, "if it is trained");
    ft_want_gradient(m, ft_find(m, "labels"));
    refused(m, "integers");
    ft_keep(m, ft_find(m, "conv9"));
    refused(m, "conv1");
    ft_destroy(m);
    CHECK(ft_keep(NULL, input) == FT_MEMORY && ft_want_gradient(NULL, input) == FT_MEMORY
          && ft_forget(NULL, input) == FT_MEMORY, "a NULL model is accepted");
}

/* The largest of a parameter's numbers; *square: their mean square. */
static double largest(ft_model *m, const char *name, double *square)
{
    ft_node node = ft_find(m, name);
    size_t count = numbers_of(m, node), i;
    float *of = weight_of(m, node);
    double most = 0;
    *square = 0;
    for (i = 0; i < count; ++i) {
        if (fabs((double)of[i]) > most) most = fabs((double)of[i]);
        *square += (double)of[i] * (double)of[i] / (double)count;
    }
    free(of);
    return most;
}

/* New layers begin as PyTorch's: uniform within 1 / sqrt(fan_in), or hidden for recurrent ones;
   embeddings normal. Others by their definition: see interface/types. */
static void test_first_values(void)
{
    static const struct { const char *name; double fan_in; } uniform[] = {
        {"fc.weight", 24}, {"fc.bias", 24}, {"conv.weight", 3 * 5 * 2}, {"conv.bias", 3 * 5 * 2},
        {"line.weight", 4 * 7}, {"line.bias", 4 * 7}, {"lstm.weight_ih_l0", 50},
        {"lstm.weight_hh_l0", 50}, {"lstm.bias_ih_l0", 50}, {"gru.weight_ih_l1_reverse", 40},
        {"gru.bias_hh_l0", 40}, {"own", 3 * 20}};
    static const struct { ft_initialiser how; double variance; } kinds[] = {
        {FT_INIT_KAIMING_UNIFORM, 1. / 3 / (6 * 15)}, {FT_INIT_KAIMING_NORMAL, 2. / (40 * 15)},
        {FT_INIT_XAVIER_UNIFORM, 6. / 3 / (6 * 15 + 40 * 15)}};
    ft_model *m = ft_create((ft_desc){.seed = 5, .threads = 1});
    ft_node vector = ft_input(m, "vector", (ft_input_options){.size = {24}});
    ft_node picture = ft_input(m, "picture", (ft_input_options){.size = {6, 9, 9}});
    ft_node steps = ft_input(m, "steps", (ft_input_options){.size = {8, 11}});
    ft_node ids = ft_input(m, "ids", (ft_input_options){.size = {5}, .type = FT_I32});
    double square, most;
    size_t i;
    ft_linear(m, "fc", vector, 400, (ft_linear_options){0});
    ft_conv2d(m, "conv", picture, 400, (ft_conv2d_options){.kernel = {5, 2}, .groups = 2});
    ft_conv1d(m, "line", steps, 400, (ft_conv1d_options){.kernel = 7, .groups = 2});
    ft_lstm(m, "lstm", steps, 50, (ft_recurrent_options){0});
    ft_gru(m, "gru", steps, 40, (ft_recurrent_options){.layers = 2, .bidirectional = true});
    ft_embedding(m, "words", ids, 100, 30, (ft_embedding_options){0});
    ft_parameter(m, "own", (ft_parameter_options){.size = {50, 3, 20}});
    for (i = 0; i < sizeof uniform / sizeof uniform[0]; ++i) {
        double bound = 1 / sqrt(uniform[i].fan_in);
        most = largest(m, uniform[i].name, &square);
        CHECK(most <= bound * 1.000001 && most > 0.95 * bound, "%s: %g of %g", uniform[i].name, most,
              bound);
        CHECK(fabs(square / (bound * bound / 3) - 1) < 0.3, "%s: mean square %g", uniform[i].name, square);
    }
    most = largest(m, "words.weight", &square);
    CHECK(fabs(square - 1) < 0.1 && most > 3 && most < 6, "embedding: %g, largest %g", square, most);
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
        char name[8];
        snprintf(name, sizeof name, "p%d", (int)i);
        ft_parameter(m, name, (ft_parameter_options){.size = {40, 6, 5, 3}, .initialiser = kinds[i].how});
        most = largest(m, name, &square);
        CHECK(fabs(square / kinds[i].variance - 1) < 0.1, "initialiser %d: mean square %g, not %g",
              (int)kinds[i].how, square, kinds[i].variance);
    }
    ft_parameter(m, "ones", (ft_parameter_options){.size = {7}, .initialiser = FT_INIT_ONES});
    CHECK(largest(m, "ones", &square) == 1 && CLOSE(square, 1, 1e-9), "ones");
    ft_parameter(m, "zeros", (ft_parameter_options){.size = {7}, .initialiser = FT_INIT_ZEROS});
    CHECK(largest(m, "zeros", &square) == 0, "zeros");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    ft_model *reader = ft_create((ft_desc){.threads = 1});
    golden = open_golden(reader, "nodes");
    test_golden();
    test_evaluation();
    test_several_outputs();
    test_bits();
    test_differences();
    test_adversarial();
    test_fit();
    test_first_values();
    test_errors();
    ft_file_close(golden);
    ft_destroy(reader);
    return check_done("test_nodes");
}
