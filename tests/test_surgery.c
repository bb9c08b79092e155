/* test_surgery.c - nodes inserted, exchanged and removed (ft_replace), and a network cut at a node (ft_cut),
   against the same network built as it should be: initial weights follow from the names, so that outputs
   and trained weights must have the same bits. */
#include "public.h"

enum { BATCH = 4, SIZE = 6, CLASSES = 3 };

static void expect(ft_model *m, ft_status want, const char *words)
{
    CHECK(ft_error(m) == want && strstr(ft_error_text(m), words), "%s: \"%s\" lacks \"%s\"",
          ft_status_name(ft_error(m)), ft_error_text(m), words);
    ft_clear_error(m);
}

static ft_node relu(ft_model *m, const char *name, ft_node x)
{
    return ft_activation(m, "relu", name, x, (ft_activation_options){0});
}

static ft_node conv(ft_model *m, const char *name, ft_node x, int kernel)
{
    return ft_conv2d(m, name, x, 4, (ft_conv2d_options){.kernel = {kernel}, .padding = {kernel / 2}});
}

static ft_node linear(ft_model *m, const char *name, ft_node x, int out)
{
    return ft_linear(m, name, x, out, (ft_linear_options){0});
}

static ft_node norm(ft_model *m, ft_node x) /* two nodes, of which the first reads x */
{
    return ft_activation(m, "tanh", "tanh", ft_batch_norm(m, "norm", x, (ft_batch_norm_options){0}),
                         (ft_activation_options){0});
}

/* Two nodes beside a linear layer (Hu et al. 2021), of rank 2; B starts at zero. */
static ft_node lora(ft_model *m, ft_node x, ft_node y)
{
    ft_linear_options a = {.no_bias = true}, b = {.no_bias = true, .initialiser = FT_INIT_ZEROS};
    return ft_add(m, "lora", y, ft_linear(m, "lora_b", ft_linear(m, "lora_a", x, 2, a), 8, b));
}

enum { PLAIN, WITH_LORA, WITH_NORM, WITHOUT_RELU, OTHER_CONV };

/* The network as it should be after a change. */
static ft_model *network(int how)
{
    ft_desc desc = {.seed = 3, .threads = 2};
    static const char *const names[CLASSES] = {"a", "b", "c"};
    ft_model *m = ft_create(desc);
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {2, SIZE, SIZE}}), y;
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    x = how == OTHER_CONV ? conv(m, "wide", x, 5) : conv(m, "conv1", x, 3);
    if (how == WITH_NORM) x = norm(m, x);
    x = relu(m, "relu1", x);
    x = conv(m, "conv2", x, 3);
    if (how != WITHOUT_RELU) x = relu(m, "relu2", x);
    x = ft_flatten(m, "flat", ft_global_avg_pool(m, "pool", x));
    y = linear(m, "fc1", x, 8);
    if (how == WITH_LORA) y = lora(m, x, y);
    y = linear(m, "fc2", relu(m, "relu3", y), CLASSES);
    ft_set_output(m, y);
    ft_set_loss(m, ft_cross_entropy(m, "loss", y, labels, (ft_loss_options){0}));
    ft_set_class_names(m, CLASSES, names);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static const float *pictures(void)
{
    static float x[BATCH * 2 * SIZE * SIZE];
    int i;
    for (i = 0; i < BATCH * 2 * SIZE * SIZE; ++i) x[i] = (float)((i * 29 + i / 7) % 31) / 15 - 1;
    return x;
}

static void steps(ft_model *m, int count)
{
    static const int labels[BATCH] = {0, 2, 1, 2};
    for (; count > 0; --count) {
        ft_feed(m, ft_find(m, "input"), pictures(), BATCH);
        ft_feed(m, ft_find(m, "labels"), labels, BATCH);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
    }
}

/* The output and, by name, every weight have the same bits. */
static void check_same(ft_model *got, ft_model *want, const char *what)
{
    float a[BATCH * CLASSES], b[BATCH * CLASSES];
    ft_node node;
    ft_run(got, pictures(), BATCH, a, BATCH * CLASSES);
    ft_run(want, pictures(), BATCH, b, BATCH * CLASSES);
    CHECK(ft_error(got) == FT_OK && ft_error(want) == FT_OK, "%s: %s%s", what, ft_error_text(got),
          ft_error_text(want));
    CHECK(!memcmp(a, b, sizeof a), "%s: another output: %g, not %g", what, (double)a[0], (double)b[0]);
    for (node.id = 1; node.id <= ft_node_count(want); ++node.id) {
        ft_node same = ft_find(got, ft_node_name(want, node));
        float *x, *y;
        CHECK(same.id > 0, "%s: no %s", what, ft_node_name(want, node));
        if (!same.id || !is_weight(want, node)) continue;
        x = weight_of(got, same);
        y = weight_of(want, node);
        CHECK(!memcmp(x, y, numbers_of(want, node) * sizeof *x), "%s: %s", what, ft_node_name(want, node));
        free(x);
        free(y);
    }
}

/* Changes the plain network in one of these ways. */
static void change(ft_model *m, int how)
{
    ft_node conv1 = ft_find(m, "conv1"), fc1 = ft_find(m, "fc1"), x = ft_find(m, "input");
    if (how == WITH_LORA) ft_replace(m, fc1, lora(m, ft_find(m, "flat"), fc1));
    if (how == WITH_NORM)
        ft_replace(m, conv1, norm(m, conv1));
    if (how == WITHOUT_RELU) ft_replace(m, ft_find(m, "relu2"), ft_find(m, "conv2"));
    if (how == OTHER_CONV) ft_replace(m, conv1, conv(m, "wide", x, 5));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

static void test_changes(int how, bool trained_before)
{
    static const char *const names[] = {"plain", "LoRA", "norm", "without relu", "other conv"};
    static const char *const gone[] = {NULL, NULL, NULL, "relu2", "conv1.weight"};
    ft_model *m = network(PLAIN), *want = network(how), *loaded = ft_create((ft_desc){0});
    ft_node fc2 = ft_find(m, "fc2");
    if (trained_before) { /* plans, optimiser state and last runs of the network before */
        steps(m, 1);
        ft_destroy(m);
        m = network(PLAIN);
        ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_SGD});
        steps(m, 1);
        ft_save(m, "build/surgery.safetensors", (ft_save_options){0});
        ft_load_weights(want, "build/surgery.safetensors",
                        (ft_weights_options){.allow_missing = true, .allow_unexpected = true});
        ft_set_optimizer(want, (ft_optimizer_options){.optimizer = FT_SGD});
    }
    change(m, how);
    CHECK(ft_find(m, "fc2").id == fc2.id && ft_class_count(m) == CLASSES, "%s: ids changed", names[how]);
    CHECK(ft_class_name(m, 1) && !strcmp(ft_class_name(m, 1), "b"), "%s: class names", names[how]);
    if (gone[how]) CHECK(!ft_find(m, gone[how]).id, "%s: %s is still there", names[how], gone[how]);
    check_same(m, want, names[how]);
    if (how == WITH_LORA) {
        ft_freeze(m, "*");
        ft_unfreeze(m, "lora*");
        ft_freeze(want, "*");
        ft_unfreeze(want, "lora*");
    }
    steps(m, 3);
    steps(want, 3);
    check_same(m, want, names[how]);
    ft_save(m, "build/surgery.safetensors", (ft_save_options){0});
    ft_load(loaded, "build/surgery.safetensors", (ft_load_options){0});
    check_same(loaded, want, names[how]);
    ft_destroy(loaded);
    ft_destroy(want);
    ft_destroy(m);
}

static void test_errors(void)
{
    ft_model *m = network(PLAIN), *want = network(PLAIN);
    ft_node x = ft_find(m, "input"), fc1 = ft_find(m, "fc1"), extra;
    ft_replace(m, fc1, fc1);
    expect(m, FT_INVALID, "cannot replace itself");
    extra = linear(m, "extra", ft_find(m, "flat"), 5);
    ft_replace(m, fc1, extra); /* fc2 wants 8 features */
    expect(m, FT_SHAPE, "fc2");
    check_same(m, want, "undone");
    ft_replace(m, extra, fc1);
    expect(m, FT_INVALID, "nothing reads extra");
    ft_replace(m, ft_find(m, "fc2"), x);
    expect(m, FT_INVALID, "an input, not the result of an operator");
    ft_replace(m, ft_find(m, "loss"), fc1);
    expect(m, FT_SHAPE, "one number");
    ft_replace(m, ft_find(m, "nothing"), fc1);
    expect(m, FT_INVALID, "ft_find found no node");
    ft_cut(m, x);
    expect(m, FT_INVALID, "an input");
    steps(m, 2);
    steps(want, 2);
    check_same(m, want, "after errors");
    ft_destroy(want);
    ft_destroy(m);
}

/* The features, read once as a kept node and once as the output of the network that ends there. */
static void test_cut(void)
{
    float kept[BATCH * 4], logits[BATCH * CLASSES], got[BATCH * 4], one;
    static const char *const gone[] = {"fc1", "fc1.weight", "fc2.bias", "relu3", "loss", "labels"};
    ft_model *m = network(PLAIN), *loaded;
    ft_node flat = ft_find(m, "flat");
    size_t i;
    ft_keep(m, flat);
    ft_run(m, pictures(), BATCH, logits, BATCH * CLASSES);
    ft_get(m, flat, kept, BATCH * 4);
    ft_cut(m, flat);
    ft_forget(m, flat);
    CHECK(!ft_loss(m).id && ft_output(m).id == flat.id && !ft_class_name(m, 0), "a loss, or classes");
    for (i = 0; i < sizeof gone / sizeof gone[0]; ++i)
        CHECK(!ft_find(m, gone[i]).id, "%s is still there", gone[i]);
    ft_run(m, pictures(), BATCH, got, BATCH * 4);
    CHECK(ft_error(m) == FT_OK && !memcmp(got, kept, sizeof got), "%s", ft_error_text(m));
    ft_save(m, "build/surgery.safetensors", (ft_save_options){0});
    loaded = ft_create((ft_desc){0});
    ft_load(loaded, "build/surgery.safetensors", (ft_load_options){0});
    ft_run(loaded, pictures(), BATCH, got, BATCH * 4);
    CHECK(ft_error(loaded) == FT_OK && !memcmp(got, kept, sizeof got), "%s", ft_error_text(loaded));
    ft_get(m, ft_find(m, "flat"), &one, 1);
    expect(m, FT_SHAPE, "numbers");
    ft_destroy(loaded);
    ft_destroy(m);
}

/* A swap gives prelu its slopes, which are trained and saved, and takes them away again. */
static void test_prelu(void)
{
    ft_model *m = network(PLAIN), *again = ft_create((ft_desc){0});
    ft_activation_options own = {.per_channel = true}, none = {0};
    float *slopes;
    int i, nodes;
    CHECK(ft_swap_activations(m, "relu[12]", "prelu", own) == 2, "%s", ft_error_text(m));
    CHECK(ft_swap_activations(m, "relu3", "prelu", none) == 1, "%s", ft_error_text(m));
    CHECK(!strcmp(ft_node_operator(m, ft_find(m, "relu1")), "prelu"), "it keeps its name");
    CHECK(ft_node_shape(m, ft_find(m, "relu2.weight")).size[0] == 4, "one for each channel");
    CHECK(ft_node_shape(m, ft_find(m, "relu3.weight")).size[0] == 1, "one for all");
    slopes = weight_of(m, ft_find(m, "relu2.weight"));
    for (i = 0; i < 4; ++i) CHECK(slopes[i] == 0.25f, "%g", (double)slopes[i]);
    free(slopes);
    steps(m, 2);
    slopes = weight_of(m, ft_find(m, "relu2.weight"));
    CHECK(slopes[0] != 0.25f && ft_error(m) == FT_OK, "trained: %s", ft_error_text(m));
    free(slopes);
    ft_save(m, "build/prelu.safetensors", (ft_save_options){0});
    ft_load(again, "build/prelu.safetensors", (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && ft_error(again) == FT_OK, "%s", ft_error_text(again));
    check_same(again, m, "saved and opened");
    nodes = ft_node_count(again); /* half as many features fit no reader: all stays as it was */
    for (i = 0; i < 2; ++i) {
        ft_swap_activations(again, i ? "relu3" : "relu?", "glu", none);
        expect(again, FT_SHAPE, i ? "fc2" : "glu halves");
        CHECK(ft_node_count(again) == nodes && !strcmp(ft_node_operator(again, ft_find(again, "relu3")), "prelu")
              && ft_find(again, "relu3.weight").id, "swap %d: %d nodes, not %d", i, ft_node_count(again), nodes);
        check_same(again, m, "after a swap that does not fit");
    }
    CHECK(ft_swap_activations(again, "relu?", "relu", none) == 3, "%s", ft_error_text(again));
    CHECK(!ft_find(again, "relu2.weight").id && !ft_find(again, "relu3.weight").id, "they are gone");
    steps(again, 1);
    CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
    ft_swap_activations(again, "relu1", "hardtanh", (ft_activation_options){.lambda = 1});
    expect(again, FT_INVALID, "hardtanh has no lambda");
    ft_swap_activations(again, "relu1", "relu", own);
    expect(again, FT_INVALID, "relu has no per_channel");
    ft_activation(again, "hardtanh", "h", ft_find(again, "fc1"), (ft_activation_options){.min = 1});
    expect(again, FT_INVALID, "min is 1 and max is 0: min must be below max");
    ft_activation(again, "prelu", NULL, ft_find(again, "fc1"), none);
    expect(again, FT_INVALID, "a layer with parameters needs a name");
    ft_activation(again, "glu", "g", ft_find(again, "fc2"), none);
    expect(again, FT_SHAPE, "glu halves a size of 3; it must be even and known");
    ft_parameter(again, "relu3.weight", (ft_parameter_options){.size = {2}}); /* the slopes' name is taken */
    nodes = ft_node_count(again);
    ft_swap_activations(again, "relu[23]", "prelu", none);
    expect(again, FT_INVALID, "relu3.weight");
    CHECK(ft_node_count(again) == nodes && !ft_find(again, "relu2.weight").id
          && !strcmp(ft_node_operator(again, ft_find(again, "relu2")), "relu"), "%d nodes, not %d",
          ft_node_count(again), nodes);
    steps(again, 1);
    CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
    ft_destroy(m);
    ft_destroy(again);
}

/* What changes the output's shape gives up the names of the classes, and the values of the last run. */
static void test_other_classes(void)
{
    static const char *const names[] = {"a", "b"};
    ft_model *m = ft_create((ft_desc){0}), *again = ft_create((ft_desc){0});
    ft_activation_options none = {0};
    float got[BATCH * 5];
    ft_node y;
    y = ft_activation(m, "glu", "half", linear(m, "fc", ft_input(m, "x", (ft_input_options){.size = {3}}), 4), none);
    ft_set_output(m, y);
    ft_set_class_names(m, 2, names);
    ft_run(m, pictures(), BATCH, got, BATCH * 2);
    CHECK(ft_swap_activations(m, "half", "relu", none) == 1, "%s", ft_error_text(m));
    CHECK(ft_class_count(m) == 4 && !ft_class_name(m, 0), "%d classes", ft_class_count(m));
    ft_get(m, y, got, BATCH * 4);
    expect(m, FT_INVALID, "after a run");
    ft_save(m, "build/surgery.safetensors", (ft_save_options){0});
    ft_load(again, "build/surgery.safetensors", (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && ft_error(again) == FT_OK, "%s%s", ft_error_text(m), ft_error_text(again));
    ft_run(m, pictures(), BATCH, got, BATCH * 4);
    ft_replace_head(m, 5);
    ft_get(m, y, got, BATCH * 5);
    expect(m, FT_INVALID, "after a run");
    ft_destroy(again);
    ft_destroy(m);
}

enum { PLANE = SIZE * SIZE };

/* The unbiased variance, and the mean, of channel k of some pictures of x [BATCH, 4, SIZE, SIZE]. */
static double variance_of(const float *x, int k, const int *which, int count, double *mean)
{
    double sum = 0, squares = 0;
    int n, i;
    for (n = 0; n < count; ++n)
        for (i = 0; i < PLANE; ++i) sum += (double)x[(which[n] * 4 + k) * PLANE + i];
    *mean = sum / (count * PLANE);
    for (n = 0; n < count; ++n)
        for (i = 0; i < PLANE; ++i) squares += pow((double)x[(which[n] * 4 + k) * PLANE + i] - *mean, 2);
    return squares / (count * PLANE - 1);
}

/* The running statistics are the mean over the batches of each one's; of a batch alone by its definition.
   Nothing else changes, and a frozen norm keeps them. */
static void test_recalibrate(void)
{
    static const int labels[BATCH] = {0, 1, 2, 0}, all[BATCH] = {0, 1, 2, 3};
    static const int pairs[][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}};
    ft_model *m = network(WITH_NORM);
    ft_data *data = ft_arrays(m, BATCH, pictures(), labels, (ft_array_options){0});
    ft_node mean = ft_find(m, "norm.running_mean"), var = ft_find(m, "norm.running_var");
    float x[BATCH * 4 * PLANE], got[4], got_var[4], after[4], *fc = weight_of(m, ft_find(m, "fc1.weight")), *same;
    double want, want_var;
    int k, n, i;
    ft_feed(m, ft_find(m, "input"), pictures(), BATCH);
    ft_feed(m, ft_find(m, "labels"), labels, BATCH);
    ft_keep(m, ft_find(m, "conv1"));
    ft_forward(m, false);
    ft_get(m, ft_find(m, "conv1"), x, BATCH * 4 * PLANE);
    CHECK(ft_recalibrate(m, data, (ft_recalibrate_options){0}) == 1, "one norm: %s", ft_error_text(m));
    ft_get(m, mean, got, 4);
    ft_get(m, var, got_var, 4);
    for (k = 0; k < 4; ++k) {
        want_var = variance_of(x, k, all, BATCH, &want);
        CHECK(CLOSE(got[k], want, 1e-6), "mean %g, not %g", (double)got[k], want);
        CHECK(CLOSE(got_var[k], want_var, 1e-6), "var %g, not %g", (double)got_var[k], want_var);
    }
    CHECK(ft_recalibrate(m, data, (ft_recalibrate_options){.batch_size = 2}) == 1, "%s", ft_error_text(m));
    ft_get(m, mean, after, 4);
    for (k = 0; k < 4; ++k) CHECK(CLOSE(after[k], got[k], 1e-6), "two batches: %g", (double)after[k]);
    ft_get(m, var, after, 4);
    for (i = n = 0; i < 3; ++i) { /* the order is random: one of these is how the pictures were in two batches */
        int same_pairs = 1;
        for (k = 0; k < 4; ++k) {
            want_var = (variance_of(x, k, pairs[i], 2, &want) + variance_of(x, k, pairs[i] + 2, 2, &want)) / 2;
            same_pairs &= CLOSE(after[k], want_var, 1e-6);
        }
        n += same_pairs;
    }
    CHECK(n == 1, "the mean of the variances of two batches: %g", (double)after[0]);
    same = weight_of(m, ft_find(m, "fc1.weight"));
    CHECK(!memcmp(same, fc, 8 * 4 * sizeof *fc), "no other weight changes");
    CHECK(ft_recalibrate(m, data, (ft_recalibrate_options){.glob = "norms*"}) == 0, "no norm is called so");
    ft_freeze(m, "norm.*");
    CHECK(ft_recalibrate(m, data, (ft_recalibrate_options){0}) == 0 && ft_error(m) == FT_OK, "a frozen norm");
    ft_get(m, var, got_var, 4);
    CHECK(!memcmp(after, got_var, sizeof after), "it keeps its statistics");
    ft_recalibrate(m, data, (ft_recalibrate_options){.batch_size = 1});
    expect(m, FT_INVALID, "ft_recalibrate: batch_size is 1; it must be at least 2");
    free(fc);
    free(same);
    ft_destroy(m);
}

int main(void)
{
    int how;
    for (how = WITH_LORA; how <= OTHER_CONV; ++how) {
        test_changes(how, false);
        test_changes(how, true);
    }
    test_prelu();
    test_other_classes();
    test_recalibrate();
    test_errors();
    test_cut();
    return check_done("test_surgery");
}
