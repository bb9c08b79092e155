/* test_losses.c - losses written from nodes against PyTorch (tests/golden/losses.safetensors): values and
   gradients; an operator by callbacks; a network of two inputs that share weights, trained by hand and by
   ft_fit; where gradients stop; what samples that meet mean for the cache of the frozen prefix. */
#include "public.h"
#include "goldens.h"

#include <limits.h>

#define GOLDEN "tests/golden/losses.safetensors"

enum { MOST = 256 };

static const ft_loss_options plain;

static ft_file *golden;

/* Reads CASE/NAME of the golden file; returns how many numbers it has, 0: it has none. */
static size_t wanted(const char *name, const char *part, float *to, ft_tensor_info *info)
{
    char path[80];
    int at, d;
    size_t count = 1;
    snprintf(path, sizeof path, "%s/%s", name, part);
    at = ft_file_find(golden, path);
    if (at < 0) return 0;
    *info = ft_file_tensor(golden, at);
    for (d = 0; d < info->shape.rank; ++d) count *= (size_t)info->shape.size[d];
    if (count > MOST) exit(1);
    if (info->type == FT_I32) ft_file_read(golden, at, to, count * sizeof *to);
    else ft_file_read_f32(golden, at, to, count);
    return count;
}

static void compare(const char *name, const char *part, const float *got, const float *want, size_t count,
                    double tolerance)
{
    double largest = 0;
    size_t i;
    for (i = 0; i < count; ++i) largest = fmax(largest, fabs((double)want[i]));
    for (i = 0; i < count; ++i)
        if (!CLOSE(got[i], want[i], tolerance * largest)) break;
    CHECK(i == count, "%s/%s: [%zu] is %.9g, not %.9g", name, part, i, (double)got[i], (double)want[i]);
}

static void expect(ft_model *m, ft_status want, const char *words)
{
    CHECK(ft_error(m) == want && strstr(ft_error_text(m), words), "%s: \"%s\" lacks \"%s\"",
          ft_status_name(ft_error(m)), ft_error_text(m), words);
    ft_clear_error(m);
}

/* ---- Shorter names ---- */

static ft_node unary(ft_model *m, const char *kind, ft_node x)
{
    return ft_unary(m, kind, NULL, x, (ft_unary_options){0});
}

static ft_node power(ft_model *m, ft_node x, float exponent)
{
    return ft_unary(m, "pow", NULL, x, (ft_unary_options){.exponent = exponent});
}

static ft_node affine(ft_model *m, ft_node x, float scale, float shift)
{
    return ft_unary(m, "affine", NULL, x, (ft_unary_options){.scale = scale, .shift = shift});
}

static ft_node at_least(ft_model *m, ft_node x, float least)
{
    return ft_unary(m, "clamp", NULL, x, (ft_unary_options){.min = least, .max = INFINITY});
}

static ft_node binary(ft_model *m, const char *kind, ft_node a, ft_node b)
{
    return ft_binary(m, kind, NULL, a, b);
}

static ft_node mean(ft_model *m, ft_node x) { return ft_reduce(m, "mean", NULL, x, (ft_reduce_options){0}); }

/* Over the last axis, which stays with a size of 1. */
static ft_node last(ft_model *m, const char *kind, ft_node x)
{
    return ft_reduce(m, kind, NULL, x, (ft_reduce_options){.axes = {-1}, .count = 1, .keep = true});
}

static ft_node activation(ft_model *m, const char *kind, ft_node x)
{
    return ft_activation(m, kind, NULL, x, (ft_activation_options){0});
}

/* ---- The losses ---- */

static ft_node l1(ft_model *m, ft_node a, ft_node b) { return mean(m, unary(m, "abs", binary(m, "sub", a, b))); }

static ft_node unit(ft_model *m, ft_node x) /* of length 1, as F.normalize */
{
    ft_node size = unary(m, "sqrt", last(m, "sum", ft_mul(m, NULL, x, x)));
    return binary(m, "div", x, at_least(m, size, 1e-12f));
}

static ft_node cosine(ft_model *m, ft_node a, ft_node b)
{
    ft_node same = last(m, "sum", ft_mul(m, NULL, unit(m, a), unit(m, b)));
    return mean(m, affine(m, same, -1, 1));
}

/* where(t, ...) chooses, as t is 0 or 1: p_t = p or 1 - p. */
static ft_node focal(ft_model *m, ft_node x, ft_node t)
{
    ft_node p = activation(m, "sigmoid", x), p_t = ft_where(m, NULL, t, p, affine(m, p, -1, 1));
    ft_node signed_x = ft_where(m, NULL, t, unary(m, "neg", x), x);
    ft_node entropy = activation(m, "softplus", signed_x);
    ft_node weights = affine(m, t, -0.5f, 0.75f); /* alpha: 0.25 for 1, 0.75 for 0 */
    ft_node easy = power(m, affine(m, p_t, -1, 1), 2);
    return mean(m, ft_mul(m, NULL, ft_mul(m, NULL, weights, easy), entropy));
}

static ft_node focal_classes(ft_model *m, ft_node x, ft_node labels)
{
    ft_node log_p = ft_gather(m, NULL, activation(m, "log_softmax", x), labels, 1);
    ft_node hard = power(m, affine(m, unary(m, "exp", log_p), -1, 1), 1.5f);
    return unary(m, "neg", mean(m, ft_mul(m, NULL, hard, log_p)));
}

/* The cross-entropy of each row of [N, N] with its own number: log(sum(exp)) less the diagonal, which is
   the sum of a b. */
static ft_node infonce(ft_model *m, ft_node a, ft_node b)
{
    ft_node za = unit(m, a), zb = unit(m, b), largest, all;
    ft_node logits = affine(m, ft_matmul(m, NULL, za, zb, (ft_matmul_options){.transpose_b = true}), 10, 0);
    largest = unary(m, "detach", last(m, "amax", logits));
    all = last(m, "sum", unary(m, "exp", binary(m, "sub", logits, largest)));
    all = ft_add(m, NULL, unary(m, "log", all), largest);
    return mean(m, binary(m, "sub", all, affine(m, last(m, "sum", ft_mul(m, NULL, za, zb)), 10, 0)));
}

/* x sin(x) by callbacks; `user` counts the calls. */
static void wave_forward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    size_t n = 1, i;
    int d;
    (void)count;
    for (d = 0; d < output->shape.rank; ++d) n *= (size_t)output->shape.size[d];
    for (i = 0; i < n; ++i) output->values[i] = inputs[0].values[i] * sinf(inputs[0].values[i]);
    ((int *)user)[0] += 1;
}

static void wave_backward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    size_t n = 1, i;
    int d;
    (void)count;
    for (d = 0; d < output->shape.rank; ++d) n *= (size_t)output->shape.size[d];
    for (i = 0; inputs[0].gradient && i < n; ++i) {
        float x = inputs[0].values[i];
        inputs[0].gradient[i] += output->gradient[i] * (sinf(x) + x * cosf(x));
    }
    ((int *)user)[1] += 1;
}

static int calls[2];
static const ft_custom_options wave_options = {.forward = wave_forward, .backward = wave_backward,
                                               .user = calls};

static ft_node wave(ft_model *m, ft_node a, ft_node b)
{
    ft_node y = ft_custom(m, "wave", &a, 1, wave_options);
    return ft_reduce(m, "sum", NULL, ft_mul(m, NULL, y, b), (ft_reduce_options){0});
}

typedef ft_node (*loss_of)(ft_model *m, ft_node a, ft_node b);

static ft_node input_of(ft_model *m, const char *name, const ft_tensor_info *info)
{
    ft_input_options o = {.type = info->type};
    int d;
    for (d = 1; d < info->shape.rank; ++d) o.size[d - 1] = info->shape.size[d];
    if (info->type == FT_I32) o.size[0] = 1; /* labels [N, 1], for ft_gather */
    return ft_input(m, name, o);
}

static void test_loss(const char *name, loss_of loss, int threads)
{
    static float a[MOST], b[MOST], want[MOST], got[MOST];
    ft_desc desc = {.threads = threads};
    ft_model *m = ft_create(desc);
    ft_tensor_info of_a, of_b, info;
    size_t count_a = wanted(name, "a", a, &of_a), count_b = wanted(name, "b", b, &of_b);
    ft_node x = input_of(m, "a", &of_a), y = input_of(m, "b", &of_b);
    ft_set_loss(m, loss(m, x, y));
    ft_want_gradient(m, x);
    if (of_b.type == FT_F32) ft_want_gradient(m, y);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    ft_feed(m, x, a, of_a.shape.size[0]);
    ft_feed(m, y, b, of_a.shape.size[0]);
    got[0] = ft_forward(m, true);
    ft_backward(m);
    CHECK(wanted(name, "y", want, &info) == 1, "%s", name);
    compare(name, "y", got, want, 1, 1e-5);
    ft_get_gradient(m, x, got, count_a);
    CHECK(wanted(name, "da", want, &info) == count_a, "%s", name);
    compare(name, "da", got, want, count_a, 1e-5);
    if (wanted(name, "db", want, &info) == count_b && of_b.type == FT_F32) {
        ft_get_gradient(m, y, got, count_b);
        compare(name, "db", got, want, count_b, 1e-5);
    }
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    ft_destroy(m);
}

/* ---- Losses by their names, against tests/golden/more_losses.safetensors ---- */

typedef ft_node (*named_loss)(ft_model *m, const char *kind, const ft_node *x, ft_loss_options o);

static ft_node by_kind(ft_model *m, const char *kind, const ft_node *x, ft_loss_options o)
{
    return ft_loss_by_kind(m, kind, "loss", x[0], x[1], o);
}

static ft_node positive(ft_model *m, const char *kind, const ft_node *x, ft_loss_options o)
{
    o.positive_weight = x[2];
    return ft_loss_by_kind(m, kind, "loss", x[0], x[1], o);
}

static ft_node of_vectors(ft_model *m, const char *kind, const ft_node *x, ft_loss_options o)
{
    return ft_embedding_loss(m, kind, "loss", x[0], x[1], x[2], o);
}

static ft_node distilled(ft_model *m, const char *kind, const ft_node *x, ft_loss_options o)
{
    (void)kind;
    return ft_distillation(m, "loss", x[0], x[1], x[2], o);
}

static const struct { const char *name, *kind; named_loss loss; ft_loss_options o; } named[] = {
    {"positive", "binary_cross_entropy", positive, {.margin = 0}},
    {"kl_divergence", "kl_divergence", by_kind, {.margin = 0}}, {"dice", "dice", by_kind, {.margin = 0}},
    {"dice_half", "dice", by_kind, {.smooth = 0.5f}}, {"cosine", "cosine", of_vectors, {.margin = 0}},
    {"cosine_margin", "cosine", of_vectors, {.margin = 0.25f}},
    {"contrastive", "contrastive", of_vectors, {.margin = 0}}, {"triplet", "triplet", of_vectors, {.margin = 0}},
    {"triplet_wide", "triplet", of_vectors, {.margin = 2.5f}}, {"distillation", NULL, distilled, {.margin = 0}},
    {"distillation_warm", NULL, distilled, {.temperature = 4, .alpha = 0.9f}},
    {"distillation_alone", NULL, distilled, {.temperature = 3, .alpha = 1}}};

static void test_named(size_t k)
{
    static const char *const parts[] = {"a", "b", "c"}, *const slopes[] = {"da", "db", "dc"};
    static float values[3][MOST], want[MOST], got[MOST];
    const char *name = named[k].name;
    ft_model *m = ft_create((ft_desc){.threads = 2});
    ft_tensor_info info;
    ft_node x[3] = {{0}, {0}, {0}};
    int i, d, batch = 0;
    for (i = 0; i < 3; ++i) {
        ft_input_options o = {0};
        if (!wanted(name, parts[i], values[i], &info)) continue;
        if (i == 0) batch = info.shape.size[0];
        if (info.shape.size[0] != batch) { /* weights of classes */
            x[i] = ft_constant(m, parts[i], info.shape.rank, info.shape.size, values[i]);
            continue;
        }
        o.type = info.type;
        for (d = 1; d < info.shape.rank; ++d) o.size[d - 1] = info.shape.size[d];
        x[i] = ft_input(m, parts[i], o);
        if (wanted(name, slopes[i], want, &info)) ft_want_gradient(m, x[i]);
        ft_feed(m, x[i], values[i], batch);
    }
    ft_set_loss(m, named[k].loss(m, named[k].kind, x, named[k].o));
    got[0] = ft_forward(m, true);
    ft_backward(m);
    CHECK(ft_error(m) == FT_OK && !strcmp(ft_node_name(m, ft_loss(m)), "loss"), "%s: %s", name, ft_error_text(m));
    CHECK(wanted(name, "y", want, &info) == 1, "%s", name);
    compare(name, "y", got, want, 1, 1e-5);
    for (i = 0; i < 3; ++i) {
        size_t count = wanted(name, slopes[i], want, &info);
        if (!count) continue;
        ft_get_gradient(m, x[i], got, count);
        compare(name, slopes[i], got, want, count, 1e-5);
    }
    ft_destroy(m);
}

/* A network with labels, whose loss is exchanged. */
static ft_model *classifier(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 5});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {4}});
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    ft_node y = ft_linear(m, "fc", x, 3, (ft_linear_options){0});
    ft_set_output(m, y);
    ft_set_loss(m, ft_cross_entropy(m, "loss", y, labels, plain));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static float loss_on_labels(ft_model *m, float *logits)
{
    static const float x[] = {1, -2, 0.5f, 3, -1, 0, 2, 1};
    static const int labels[] = {2, 0};
    if (logits) ft_run(m, x, 2, logits, 6);
    ft_feed(m, ft_find(m, "input"), x, 2);
    if (ft_find(m, "labels").id) ft_feed(m, ft_find(m, "labels"), labels, 2);
    return ft_forward(m, true);
}

/* The loss of an exchanged kind is the kind's by its definition, where labels are rows of a one. */
static void test_exchanged(void)
{
    static const char *const kinds[] = {"binary_cross_entropy", "mse", "l1", "soft_cross_entropy", "hinge",
                                        "cross_entropy", "dice", "focal"};
    ft_model *m = classifier();
    float logits[6], got;
    double want[8] = {0}, over[3][3] = {{0}}, p;
    int n, c, k;
    got = loss_on_labels(m, logits);
    for (n = 0; n < 2; ++n) {
        const float *x = logits + 3 * n;
        int label = n ? 0 : 2;
        double all = exp((double)x[0]) + exp((double)x[1]) + exp((double)x[2]);
        for (c = 0; c < 3; ++c) {
            double t = c == label, sigmoid = 1 / (1 + exp(-(double)x[c])), d = (double)x[c] - t;
            want[0] -= (t * log(sigmoid) + (1 - t) * log(1 - sigmoid)) / 6;
            want[1] += d * d / 6;
            want[2] += fabs(d) / 6;
            if (c != label) want[4] += fmax(0, 1 - (double)x[label] + (double)x[c]) / 6;
            over[0][c] += sigmoid * t;
            over[1][c] += sigmoid + t;
        }
        p = exp((double)x[label]) / all;
        want[3] -= log(p) / 2;
        want[5] -= log(p) / 2;
        want[7] -= (1 - p) * (1 - p) * log(p) / 2;
    }
    for (c = 0; c < 3; ++c) want[6] += (1 - (2 * over[0][c] + 1) / (over[1][c] + 1)) / 3;
    CHECK(CLOSE(got, want[5], 1e-5), "before: %g, not %g", (double)got, want[5]);
    for (k = 0; k < 8; ++k) {
        CHECK(ft_set_loss_kind(m, kinds[k], plain) == FT_OK, "%s: %s", kinds[k], ft_error_text(m));
        CHECK(!strcmp(ft_node_name(m, ft_loss(m)), "loss"), "%s: it keeps its name", kinds[k]);
        got = loss_on_labels(m, NULL);
        CHECK(ft_error(m) == FT_OK && CLOSE(got, want[k], 1e-5), "%s: %g, not %g: %s", kinds[k], (double)got,
              want[k], ft_error_text(m));
    }
    ft_set_loss_kind(m, "focus", plain);
    expect(m, FT_INVALID, "focus: unknown loss; it must be one of cross_entropy, focal, hinge");
    ft_set_loss_kind(m, "l1", (ft_loss_options){.beta = 1});
    expect(m, FT_INVALID, "l1: this loss has no beta");
    ft_set_loss_kind(m, "hinge", (ft_loss_options){.margin = -1});
    expect(m, FT_INVALID, "hinge: margin is -1; it must be finite and not negative");
    ft_set_loss_kind(m, "dice", (ft_loss_options){.positive_weight = {1}});
    expect(m, FT_INVALID, "dice: this loss has no positive_weight");
    ft_input(m, "target", (ft_input_options){.size = {3}}); /* several classes of a sample at once */
    CHECK(ft_set_loss_kind(m, "binary_cross_entropy", plain) == FT_OK && !ft_find(m, "labels").id, "%s",
          ft_error_text(m));
    ft_set_loss_kind(m, "hinge", plain);
    expect(m, FT_INVALID, "hinge is a loss of labels, which the network does not read");
    ft_destroy(m);
}

/* What a classifier predicts of 3 samples, computed from the logits: by a sigmoid of each class on its own, or
   by a softmax. Evaluation, its log loss, and the model after it was saved say the same. */
static void check_probabilities(ft_model *m, const char *kind, bool apart)
{
    static const float x[3][4] = {{1, -2, 0.5f, 3}, {-1, 0, 2, 1}, {0.5f, 0.5f, -3, -1}};
    static const int labels[3] = {2, 0, 1};
    ft_prediction best[3][3];
    ft_metrics metrics;
    ft_evaluate_options o = {.metrics = &metrics};
    ft_data *data = ft_arrays(m, 3, x[0], labels, (ft_array_options){0});
    float logits[3][3];
    double want[3][3], loss = 0, total = 0;
    int n, k;
    ft_run(m, x, 3, logits[0], 9);
    for (n = 0; n < 3; ++n) {
        double all = 0;
        for (k = 0; k < 3; ++k) all += exp((double)logits[n][k]);
        for (k = 0; k < 3; ++k)
            want[n][k] = apart ? 1 / (1 + exp(-(double)logits[n][k])) : exp((double)logits[n][k]) / all;
        loss -= log(want[n][labels[n]]) / 3;
    }
    CHECK(ft_predict_data(m, data, best[0], 3, (ft_predict_options){0}) == 3, "%s: %s", kind, ft_error_text(m));
    for (n = 0; n < 3; ++n)
        for (k = 0; k < 3; ++k) {
            CHECK(CLOSE(best[n][k].probability, want[n][best[n][k].class_index], 1e-6), "%s: %d, %d: %g, not %g",
                  kind, n, k, (double)best[n][k].probability, want[n][best[n][k].class_index]);
            CHECK(k == 0 || best[n][k].probability <= best[n][k - 1].probability, "%s: best first", kind);
            total += (double)best[n][k].probability;
        }
    CHECK(apart == (fabs(total - 3) > 0.01), "%s: the probabilities add up to %g", kind, total);
    ft_evaluate(m, data, o);
    CHECK(ft_error(m) == FT_OK && CLOSE(metrics.of[FT_METRIC_LOG_LOSS].value, loss, 1e-6), "%s: log loss %g, not %g",
          kind, metrics.of[FT_METRIC_LOG_LOSS].value, loss);
}

static void note_probability(void *user, const ft_sample_result *r) { ((float *)user)[r->index] = r->probability; }

static void test_probabilities(void)
{
    static const int three = 3;
    static const float x[3][4] = {{1, -2, 0.5f, 3}, {-1, 0, 2, 1}, {0.5f, 0.5f, -3, -1}}, factors[3] = {2, 1, 3};
    static const int labels[3] = {2, 0, 1};
    static const struct { const char *kind; bool apart; } kinds[] = {
        {"cross_entropy", false}, {"binary_cross_entropy", true}, {"focal", false}, {"dice", true}, {"hinge", false},
        {"mse", false}, {"kl_divergence", false}, {"soft_cross_entropy", false}, {"sigmoid_focal", true}};
    ft_model *m = classifier(), *again;
    ft_loss_options o = {0};
    ft_prediction best[3];
    float seen[3];
    ft_data *data;
    size_t k;
    int n;
    for (k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
        ft_set_loss_kind(m, kinds[k].kind, plain);
        check_probabilities(m, kinds[k].kind, kinds[k].apart);
    }
    ft_save(m, "build/apart.safetensors", (ft_save_options){0});
    again = ft_create((ft_desc){0});
    ft_load(again, "build/apart.safetensors", (ft_load_options){0});
    remove("build/apart.safetensors");
    check_probabilities(again, "a model that was saved", true);
    ft_destroy(again);
    o.positive_weight = ft_constant(m, "factors", 1, &three, factors);
    ft_set_loss_kind(m, "binary_cross_entropy", o);
    check_probabilities(m, "positive weights", true);
    data = ft_arrays(m, 3, x[0], labels, (ft_array_options){0});
    ft_evaluate(m, data, (ft_evaluate_options){.sample = note_probability, .sample_user = seen});
    for (n = 0; n < 3; ++n) {
        ft_predict_data(m, ft_arrays(m, 1, x[n], NULL, (ft_array_options){0}), best, 1, (ft_predict_options){0});
        CHECK(seen[n] == best[0].probability, "sample %d: %g and %g", n, (double)seen[n], (double)best[0].probability);
    }
    ft_calibrate(m, data, (ft_calibrate_options){0});
    expect(m, FT_UNSUPPORTED, "ft_calibrate: the loss learns each class on its own");
    ft_set_temperature(m, 2); /* divides logits here too */
    ft_run(m, x[0], 1, seen, 3);
    ft_predict_data(m, ft_arrays(m, 1, x[0], NULL, (ft_array_options){0}), best, 1, (ft_predict_options){0});
    CHECK(CLOSE(best[0].probability, 1 / (1 + exp(-(double)seen[best[0].class_index] / 2)), 1e-6), "%g",
          (double)best[0].probability);
    ft_destroy(m);
}

/* The loss with a teacher is that of both networks' logits by its definition; training does not change the
   teacher, and with another loss it is gone. */
static void test_teacher(void)
{
    ft_loss_options o = {.temperature = 3, .alpha = 0.75f};
    ft_model *m = classifier(), *teacher = classifier(), *other = ft_create((ft_desc){0});
    float x[6], t[6], got, weights[2][12], ones[12];
    double want = 0;
    int n, c;
    for (c = 0; c < 12; ++c) ones[c] = (float)(c * c % 7) - 2.5f;
    ft_set(teacher, ft_find(teacher, "fc.weight"), ones, 12);
    loss_on_labels(teacher, t);
    CHECK(ft_set_teacher(m, teacher, o) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(teacher);
    got = loss_on_labels(m, x);
    for (n = 0; n < 2; ++n) {
        double all[3] = {0};
        for (c = 0; c < 3; ++c) {
            all[0] += exp((double)x[3 * n + c]);
            all[1] += exp((double)x[3 * n + c] / 3);
            all[2] += exp((double)t[3 * n + c] / 3);
        }
        want -= 0.25 * log(exp((double)x[3 * n + (n ? 0 : 2)]) / all[0]) / 2;
        for (c = 0; c < 3; ++c) {
            double p = exp((double)t[3 * n + c] / 3) / all[2];
            want += 0.75 * 9 * p * (log(p) - log(exp((double)x[3 * n + c] / 3) / all[1])) / 2;
        }
    }
    CHECK(CLOSE(got, want, 1e-5), "%g, not %g: %s", (double)got, want, ft_error_text(m));
    ft_get(m, ft_find(m, "teacher.fc.weight"), weights[0], 12);
    CHECK(!memcmp(weights[0], ones, sizeof ones), "the teacher's weights");
    ft_unfreeze(m, "*");
    for (n = 0; n < 40; ++n) {
        loss_on_labels(m, NULL);
        ft_backward(m);
        ft_update(m, 0.05f);
    }
    CHECK(loss_on_labels(m, NULL) < 0.9f * got, "it learns");
    ft_get(m, ft_find(m, "teacher.fc.weight"), weights[1], 12);
    CHECK(!memcmp(weights[0], weights[1], sizeof ones), "the teacher does not");
    CHECK(ft_set_loss_kind(m, "cross_entropy", plain) == FT_OK && !ft_find(m, "teacher.fc.weight").id
          && !ft_find(m, "teacher.fc").id && ft_find(m, "fc.weight").id, "%s", ft_error_text(m));
    ft_set_teacher(m, other, o);
    expect(m, FT_INVALID, "the teacher must be another network");
    ft_set_teacher(m, NULL, o);
    expect(m, FT_INVALID, "the teacher");
    ft_linear(other, "fc", ft_input(other, "input", (ft_input_options){.size = {4}}), 5, (ft_linear_options){0});
    ft_set_output(other, ft_find(other, "fc"));
    ft_set_teacher(m, other, o);
    expect(m, FT_INVALID, "with the network's 3 classes");
    ft_destroy(m);
    ft_destroy(other);
}

/* ---- Connectionist temporal classification, against tests/golden/ctc.safetensors ---- */

static const struct { const char *name; ft_loss_options o; } sequences[] = {
    {"plain", {.margin = 0}}, {"lengths", {.margin = 0}}, {"last_blank", {.blank = 3}},
    {"too_short", {.zero_infinity = true}}, {"certain", {.margin = 0}}};

static void test_ctc(size_t k)
{
    static float logits[MOST], want[MOST], got[MOST];
    static int labels[MOST], lengths[MOST];
    const char *name = sequences[k].name;
    ft_loss_options o = sequences[k].o;
    ft_model *m = ft_create((ft_desc){.threads = 2});
    ft_tensor_info a, b, info;
    size_t count = wanted(name, "a", logits, &a);
    int n = a.shape.size[0];
    ft_node x, y;
    wanted(name, "b", (float *)(void *)labels, &b);
    x = ft_input(m, "input", (ft_input_options){.size = {a.shape.size[1], a.shape.size[2]}});
    y = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {b.shape.size[1]}});
    if (wanted(name, "c", (float *)(void *)lengths, &info)) {
        o.lengths = ft_input(m, "lengths", (ft_input_options){.type = FT_I32});
        ft_feed(m, o.lengths, lengths, n);
    }
    ft_set_loss(m, ft_loss_by_kind(m, "ctc", "loss", x, y, o));
    ft_want_gradient(m, x);
    ft_feed(m, x, logits, n);
    ft_feed(m, y, labels, n);
    got[0] = ft_forward(m, true);
    ft_backward(m);
    CHECK(ft_error(m) == FT_OK && wanted(name, "y", want, &info) == 1, "%s: %s", name, ft_error_text(m));
    compare(name, "y", got, want, 1, 1e-5);
    ft_get_gradient(m, x, got, count);
    CHECK(wanted(name, "da", want, &info) == count, "%s", name);
    compare(name, "da", got, want, count, 1e-5);
    if (!strcmp(name, "lengths")) { /* with weights: the mean of what each sample has alone */
        static const float weights[] = {2, 0.5f, 0, 1.5f};
        double sum = 0;
        int i;
        ft_feed_weights(m, weights, n);
        got[0] = ft_forward(m, true);
        ft_feed_weights(m, NULL, 0);
        for (i = 0; i < n; ++i) {
            ft_feed(m, x, logits + (size_t)i * count / (size_t)n, 1);
            ft_feed(m, y, labels + i * b.shape.size[1], 1);
            ft_feed(m, o.lengths, lengths + i, 1);
            sum += (double)weights[i] * (double)ft_forward(m, true);
        }
        CHECK(ft_error(m) == FT_OK && CLOSE(got[0], sum / 4, 1e-5), "weights: %g, not %g: %s", (double)got[0],
              sum / 4, ft_error_text(m));
    }
    if (o.zero_infinity) { /* without it the loss is infinite */
        o.zero_infinity = false;
        ft_set_loss(m, ft_ctc_loss(m, "infinite", x, y, o));
        ft_forward(m, true);
        CHECK(ft_error(m) == FT_NOT_FINITE, "%s: %s", name, ft_error_text(m));
        ft_clear_error(m);
    }
    ft_destroy(m);
}

/* A network of steps of any number that was read: the loss takes its input "lengths", and a file keeps it. */
static void test_read_steps(void)
{
    static float logits[MOST], want[MOST];
    static int labels[MOST], padded[4][10];
    int lengths[4], n, i;
    ft_model *m = ft_create((ft_desc){.threads = 1}), *again = ft_create((ft_desc){.threads = 1}), *one;
    ft_tensor_info info;
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, 6}});
    ft_node y = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    ft_input(m, "lengths", (ft_input_options){.type = FT_I32});
    wanted("lengths", "a", logits, &info);
    wanted("lengths", "b", (float *)(void *)labels, &info);
    wanted("lengths", "c", (float *)(void *)lengths, &info);
    wanted("lengths", "y", want, &info);
    for (n = 0; n < 4; ++n)
        for (i = 0; i < 10; ++i) padded[n][i] = i < 4 ? labels[4 * n + i] : -100;
    x = affine(m, x, 1, 0);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, plain));
    CHECK(ft_set_loss_kind(m, "ctc", plain) == FT_OK, "%s", ft_error_text(m));
    ft_save(m, "build/ctc.safetensors", (ft_save_options){0});
    ft_load(again, "build/ctc.safetensors", (ft_load_options){0});
    remove("build/ctc.safetensors");
    for (i = 0; i < 2; ++i) {
        float got;
        one = i ? again : m;
        ft_set_length(one, 10);
        ft_feed(one, ft_find(one, "input"), logits, 4);
        ft_feed(one, ft_find(one, "labels"), padded, 4);
        ft_feed(one, ft_find(one, "lengths"), lengths, 4);
        got = ft_forward(one, true);
        CHECK(ft_error(one) == FT_OK && CLOSE(got, want[0], 1e-5 * (double)want[0]), "%d: %g, not %g: %s", i,
              (double)got, (double)want[0], ft_error_text(one));
    }
    ft_destroy(m);
    ft_destroy(again);
}

/* A network of steps learns to write sequences: each of four pictures of 8 columns is read as its labels,
   by the best path. */
static void test_reading(void)
{
    enum { N = 4, T = 8, S = 3, C = 4 };
    static const int labels[N][S] = {{1, 1, 2}, {3, 2, -1}, {2, -1, -1}, {3, 1, 3}};
    ft_model *m = ft_create((ft_desc){.seed = 3, .threads = 1});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {T, 5}}), loss;
    ft_node y = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {S}});
    float values[N * T * 5], logits[N][T][C], first = 0, last = 0;
    unsigned state = 9;
    const ft_array of_labels = {"labels", labels};
    ft_fit_options fit = {.epochs = 5, .batch_size = N};
    ft_evaluation e;
    ft_data *data;
    int n, i, read[T], bad[N][S] = {{1, 1, 2}, {3, 0, -1}, {2, -1, -1}, {3, 1, 3}};
    for (i = 0; i < N * T * 5; ++i) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 16) / 32768 - 1;
    }
    x = ft_linear(m, "fc", x, 24, (ft_linear_options){0});
    x = ft_linear(m, "out", activation(m, "tanh", x), C, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_ctc_loss(m, "loss", x, y, plain));
    ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_ADAM});
    for (i = 0; i < 150; ++i) {
        ft_feed(m, ft_find(m, "input"), values, N);
        ft_feed(m, y, labels, N);
        last = ft_forward(m, true);
        if (i == 0) first = last;
        ft_backward(m);
        ft_update(m, 0.02f);
    }
    CHECK(ft_error(m) == FT_OK && last < 0.2f && last < first, "%g to %g: %s", (double)first, (double)last,
          ft_error_text(m));
    data = ft_arrays(m, N, values, NULL, (ft_array_options){.more = &of_labels, .more_count = 1});
    fit.optimizer.learning_rate = 1e-3f;
    ft_fit(m, data, fit);
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && e.total == N && e.accuracy == -1 && e.loss < (double)last, "loss %g, was %g: %s",
          e.loss, (double)last, ft_error_text(m));
    ft_run(m, values, N, logits[0][0], N * T * C);
    for (n = 0; n < N; ++n) {
        int count = ft_ctc_decode(logits[n][0], T, C, 0, read);
        for (i = 0; i < S && labels[n][i] >= 0; ++i)
            if (i >= count || read[i] != labels[n][i]) break;
        CHECK(i == count && (i == S || labels[n][i] < 0), "sample %d: %d labels, %d right", n, count, i);
    }
    loss = ft_loss(m);
    CHECK(ft_set_loss_kind(m, "ctc", (ft_loss_options){.zero_infinity = true}) == FT_OK && ft_loss(m).id != loss.id,
          "%s", ft_error_text(m));
    ft_set_loss_kind(m, "ctc", (ft_loss_options){.blank = C});
    expect(m, FT_INVALID, "blank is 4; it must be one of the 4 classes");
    ft_set_loss_kind(m, "ctc", (ft_loss_options){.gamma = 1});
    expect(m, FT_INVALID, "ctc: this loss has no gamma");
    ft_feed(m, ft_find(m, "input"), values, N);
    ft_feed(m, ft_find(m, "labels"), bad, N); /* the blank is no label */
    ft_forward(m, true);
    CHECK(ft_error(m) == FT_NOT_FINITE, "a blank as a label: %s", ft_error_text(m));
    ft_destroy(m);
    m = classifier();
    ft_set_loss_kind(m, "ctc", plain);
    expect(m, FT_INVALID, "ctc is a loss of labels [N, S] of steps [N, T, classes]");
    ft_set_loss_kind(m, "focal", (ft_loss_options){.blank = 1});
    expect(m, FT_INVALID, "focal: this loss has no blank");
    ft_destroy(m);
}

/* The best path: equal neighbours once, unless a blank is between them. */
static void test_decode(void)
{
    static const float logits[7][3] = {{0, 2, 1}, {0, 2, 1}, {5, 2, 1}, {0, 3, 1}, {0, 1, 2}, {1, 0, 0}, {1, 1, 0}};
    int labels[7];
    CHECK(ft_ctc_decode(logits[0], 7, 3, 0, labels) == 3 && labels[0] == 1 && labels[1] == 1 && labels[2] == 2,
          "%d %d %d", labels[0], labels[1], labels[2]);
    CHECK(ft_ctc_decode(logits[0], 7, 3, 1, labels) == 3 && labels[0] == 0 && labels[1] == 2 && labels[2] == 0,
          "%d %d %d", labels[0], labels[1], labels[2]);
    CHECK(ft_ctc_decode(logits[0], 0, 3, 0, labels) == 0, "no step");
    CHECK(ft_ctc_decode(NULL, 7, 3, 0, labels) == 0 && ft_ctc_decode(logits[0], 7, 3, 0, NULL) == 0, "NULL");
}

/* ---- Sets whose best loss is known: training gets within 1 % of it ---- */

enum { DRAWN = 16000, MARKS = 3, WIDTH = 4 };

static double drawn(uint32_t *state) /* in [0, 1) */
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / 16777216;
}

/* Two sets, to learn from and to evaluate on: inputs, and what is to be learnt of them. */
static float drawn_x[2][DRAWN][WIDTH], drawn_t[2][DRAWN][MARKS];

/* The inputs of a sample, in [-1, 1). */
static const float *draw_sample(int set, int i, uint32_t *state)
{
    int k;
    for (k = 0; k < WIDTH; ++k) drawn_x[set][i][k] = (float)(2 * drawn(state) - 1);
    return drawn_x[set][i];
}

/* A network of two layers, whose output has a number for each mark. */
static ft_node marks_network(ft_model *m)
{
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {WIDTH}});
    ft_node y = ft_linear(m, "a", x, 24, (ft_linear_options){0});
    y = ft_linear(m, "b", activation(m, "tanh", y), MARKS, (ft_linear_options){0});
    ft_set_output(m, y);
    return y;
}

/* Learns from the first set, and evaluates on the second. */
static ft_evaluation fit_drawn(ft_model *m, int epochs, float rate)
{
    ft_fit_options fit = {.epochs = epochs, .batch_size = 64, .schedule = FT_COSINE};
    ft_array_options arrays = {.targets = drawn_t[0][0], .target_size = MARKS};
    fit.optimizer.optimizer = FT_ADAM;
    fit.optimizer.learning_rate = rate;
    ft_fit(m, ft_arrays(m, DRAWN, drawn_x[0][0], NULL, arrays), fit);
    arrays.targets = drawn_t[1][0];
    return ft_evaluate(m, ft_arrays(m, DRAWN, drawn_x[1][0], NULL, arrays), (ft_evaluate_options){.batch_size = 500});
}

/* What is to be learnt of x: a number for each of 3 marks, of order 1. */
static double truth(const float *x, int k)
{
    return k == 0 ? 2 * (double)x[0] - (double)x[1] : k == 1 ? sin(2 * (double)x[2]) + (double)x[3]
        : (double)x[0] * (double)x[1] - 1;
}

/* Three bits of each sample are drawn with probabilities p = sigmoid(truth). The mean of w t -log(q) +
   (1 - t) -log(1 - q) over draws of t is least at q = w p / (w p + 1 - p), for w = 1 the entropy of the bits.
   It is measured with p as the targets, which is its mean over all draws. */
static void test_best_labels(float factor)
{
    static const int three = MARKS;
    const float factors[MARKS] = {factor, factor, factor};
    ft_model *m = ft_create((ft_desc){.seed = 1, .threads = 1});
    ft_node y = marks_network(m), target;
    ft_loss_options o = {.positive_weight = ft_constant(m, "factors", 1, &three, factors)};
    ft_prediction best[MARKS];
    double least = 0, off = 0;
    uint32_t state = 3;
    ft_evaluation e;
    int set, i, k;
    for (set = 0; set < 2; ++set)
        for (i = 0; i < DRAWN; ++i) {
            const float *x = draw_sample(set, i, &state);
            for (k = 0; k < MARKS; ++k) {
                double p = 1 / (1 + exp(-truth(x, k))), q = (double)factor * p / ((double)factor * p + 1 - p);
                drawn_t[set][i][k] = set ? (float)p : drawn(&state) < p;
                if (set) least -= ((double)factor * p * log(q) + (1 - p) * log(1 - q)) / (DRAWN * MARKS);
            }
        }
    target = ft_input(m, "target", (ft_input_options){.size = {MARKS}});
    if (factor == 1) ft_set_loss(m, ft_binary_cross_entropy(m, "loss", y, target));
    else ft_set_loss(m, ft_loss_by_kind(m, "binary_cross_entropy", "loss", y, target, o));
    e = fit_drawn(m, 8, 0.01f);
    CHECK(ft_error(m) == FT_OK && e.loss >= least && e.loss <= 1.01 * least, "factor %g: loss %g, the least is %g: %s",
          (double)factor, e.loss, least, ft_error_text(m));
    ft_predict_data(m, ft_arrays(m, 1, drawn_x[1][0], NULL, (ft_array_options){0}), best, MARKS, (ft_predict_options){0});
    for (k = 0; k < MARKS; ++k) {
        double p = (double)drawn_t[1][0][best[k].class_index], q = (double)factor * p / ((double)factor * p + 1 - p);
        off = fmax(off, fabs((double)best[k].probability - q));
    }
    CHECK(ft_error(m) == FT_OK && off < 0.08, "factor %g: a probability is off by %g", (double)factor, off);
    ft_destroy(m);
}

/* A number with noise: the least mean squared error is the noise's variance, which is measured. */
static void test_best_numbers(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1, .threads = 1});
    ft_node y = marks_network(m);
    double variance = 0;
    uint32_t state = 5;
    ft_evaluation e;
    int set, i, k;
    for (set = 0; set < 2; ++set)
        for (i = 0; i < DRAWN; ++i) {
            const float *x = draw_sample(set, i, &state);
            for (k = 0; k < MARKS; ++k) {
                double noise = drawn(&state) + drawn(&state) + drawn(&state) + drawn(&state) - 2;
                drawn_t[set][i][k] = (float)(truth(x, k) + noise);
                if (set) variance += noise * noise / (DRAWN * MARKS);
            }
        }
    CHECK(CLOSE(variance, 4.0 / 12, 0.01), "four of variance 1 / 12: %g", variance);
    ft_set_loss(m, ft_mse(m, "loss", y, ft_input(m, "target", (ft_input_options){.size = {MARKS}})));
    e = fit_drawn(m, 12, 0.02f);
    CHECK(ft_error(m) == FT_OK && e.mse <= 1.01 * variance && e.mse > 0.99 * variance, "error %g, the noise is %g: %s",
          e.mse, variance, ft_error_text(m));
    ft_destroy(m);
}

/* ---- Two inputs, one set of weights ---- */

static const char *const weights[] = {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};

static ft_node embed(ft_model *m, const char *side, ft_node x, ft_node *w)
{
    char name[16];
    snprintf(name, sizeof name, "%s1", side);
    x = ft_linear(m, name, x, 10, (ft_linear_options){.weight = w[0], .bias = w[1]});
    snprintf(name, sizeof name, "%s2", side);
    return ft_linear(m, name, activation(m, "tanh", x), 4,
                     (ft_linear_options){.weight = w[2], .bias = w[3]});
}

static ft_model *siamese(void)
{
    static const int sizes[4][2] = {{10, 6}, {10, 0}, {4, 10}, {4, 0}};
    static float values[MOST];
    ft_desc desc = {.threads = 2};
    ft_model *m = ft_create(desc);
    ft_node w[4], left, right, target, d, apart, together;
    ft_tensor_info info;
    int i;
    for (i = 0; i < 4; ++i) {
        size_t count = wanted("siamese", weights[i], values, &info);
        w[i] = ft_parameter(m, weights[i], (ft_parameter_options){.size = {sizes[i][0], sizes[i][1]}});
        ft_set(m, w[i], values, count);
    }
    left = ft_input(m, "left", (ft_input_options){.size = {6}});
    right = ft_input(m, "right", (ft_input_options){.size = {6}});
    target = ft_input(m, "target", (ft_input_options){.size = {1}});
    d = affine(m, binary(m, "sub", embed(m, "left", left, w), embed(m, "right", right, w)), 1, 1e-3f);
    d = ft_unary(m, "sqrt", "distance", last(m, "sum", power(m, d, 2)), (ft_unary_options){0});
    together = ft_mul(m, NULL, target, power(m, d, 2));
    apart = ft_mul(m, NULL, affine(m, target, -1, 1), power(m, at_least(m, affine(m, d, -1, 2), 0), 2));
    ft_set_output(m, d);
    ft_set_loss(m, mean(m, ft_add(m, NULL, together, apart)));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static void compare_weights(ft_model *m, const char *how)
{
    static float want[MOST], got[MOST];
    ft_tensor_info info;
    int i;
    for (i = 0; i < 4; ++i) {
        char part[40];
        size_t count;
        snprintf(part, sizeof part, "after/%s", weights[i]);
        count = wanted("siamese", part, want, &info);
        ft_get(m, ft_find(m, weights[i]), got, count);
        compare(how, part, got, want, count, 1e-3);
    }
}

static void test_siamese(void)
{
    static float left[MOST], right[MOST], target[MOST], want[MOST], output[12], again[12];
    ft_optimizer_options sgd = {.optimizer = FT_SGD, .learning_rate = 0.1f, .momentum = 0.9f};
    ft_array more[2] = {{"right", right}, {"target", target}};
    ft_array_options arrays = {.input = "left", .more = more, .more_count = 2};
    ft_tensor_info info;
    ft_fit_options fit = {.epochs = 10, .batch_size = 12, .optimizer = sgd};
    ft_model *m = siamese();
    ft_data *data;
    int step;
    wanted("siamese", "left", left, &info);
    wanted("siamese", "right", right, &info);
    wanted("siamese", "target", target, &info);
    wanted("siamese", "losses", want, &info);
    ft_set_optimizer(m, sgd);
    for (step = 0; step < 10; ++step) {
        float loss;
        ft_feed(m, ft_find(m, "left"), left, 12);
        ft_feed(m, ft_find(m, "right"), right, 12);
        ft_feed(m, ft_find(m, "target"), target, 12);
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.1f);
        CHECK(CLOSE(loss, want[step], 1e-3 * (double)want[step]), "step %d: loss %g, not %g", step,
              (double)loss, (double)want[step]);
    }
    compare_weights(m, "by hand");
    ft_forward(m, false); /* the output alone: the distances */
    ft_get(m, ft_output(m), output, 12);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = siamese(); /* the same through ft_fit: all pairs in one batch, in any order */
    data = ft_arrays(m, 12, left, NULL, arrays);
    fit.no_cache = true;
    ft_fit(m, data, fit);
    compare_weights(m, "ft_fit");
    CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).total == 12, "%s", ft_error_text(m));
    ft_feed(m, ft_find(m, "left"), left, 12);
    ft_feed(m, ft_find(m, "right"), right, 12);
    ft_forward(m, false);
    ft_get(m, ft_output(m), again, 12);
    compare("ft_fit", "output", again, output, 12, 1e-4);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    more[1].name = "nothing";
    data = ft_arrays(m, 12, left, NULL, arrays);
    ft_fit(m, data, fit);
    expect(m, FT_INVALID, "\"target\"");
    more[1].values = NULL;
    CHECK(!ft_arrays(m, 12, left, NULL, arrays), "an array without values");
    expect(m, FT_INVALID, "more[1]");
    ft_destroy(m);
}

/* ---- Where gradients stop ---- */

/* mean(x) + mean(detach(sqrt(x))) at 0, where the slope of sqrt is infinite; and of an input that only a
   comparison reads. */
static void test_detach(void)
{
    float x[4] = {0, 0, 4, 0}, d[4];
    ft_model *m = ft_create((ft_desc){0});
    ft_node a = ft_input(m, "x", (ft_input_options){0}), root = unary(m, "sqrt", a);
    ft_node more = mean(m, binary(m, "greater", affine(m, a, 3, 0), a));
    int i;
    ft_set_loss(m, ft_add(m, NULL, ft_add(m, NULL, mean(m, a), mean(m, unary(m, "detach", root))), more));
    ft_want_gradient(m, a);
    ft_feed(m, a, x, 4);
    CHECK(CLOSE(ft_forward(m, true), 1 + 0.5 + 0.25, 1e-6), "loss %s", ft_error_text(m));
    ft_backward(m);
    ft_get_gradient(m, a, d, 4);
    for (i = 0; i < 4; ++i) CHECK(d[i] == 0.25f, "gradient %d is %g", i, (double)d[i]);
    ft_want_gradient(m, root);
    ft_feed(m, a, x, 4);
    ft_forward(m, true);
    ft_backward(m);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_get_gradient(m, root, d, 4);
    expect(m, FT_INVALID, "does not depend on it");
    ft_destroy(m);
}

/* ---- Samples that meet, and values without samples, in the frozen prefix ---- */

static void test_prefix(void)
{
    enum { COUNT = 10 };
    static float x[COUNT * 3], target[COUNT], after[2][3];
    ft_array more = {"target", target};
    int cached, i;
    for (i = 0; i < COUNT * 3; ++i) x[i] = (float)((i * 7 + i / 5) % 11) / 5 - 1;
    for (i = 0; i < COUNT; ++i) target[i] = (float)(i % 4);
    for (cached = 0; cached < 2; ++cached) {
        ft_model *m = ft_create((ft_desc){0});
        ft_node a = ft_input(m, "input", (ft_input_options){.size = {3}}), y;
        ft_node t = ft_input(m, "target", (ft_input_options){.size = {1}});
        ft_array_options arrays = {.more = &more, .more_count = 1};
        ft_fit_options fit = {.epochs = 3, .batch_size = 5, .no_cache = !cached};
        float shift[3] = {0.5f, -1, 2};
        ft_node moved = unary(m, "exp", ft_constant(m, "shift", 1, (const int[]){3}, shift));
        y = ft_linear(m, "frozen", a, 3, (ft_linear_options){0});
        y = binary(m, "sub", y, ft_reduce(m, "mean", NULL, y, (ft_reduce_options){.count = 1, .keep = true}));
        y = ft_linear(m, "head", ft_add(m, NULL, y, moved), 1, (ft_linear_options){0});
        ft_set_output(m, y);
        ft_set_loss(m, l1(m, y, t));
        ft_freeze(m, "frozen.*");
        ft_fit(m, ft_arrays(m, COUNT, x, NULL, arrays), fit);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_get(m, ft_find(m, "head.weight"), after[cached], 3);
        ft_destroy(m);
    }
    CHECK(!memcmp(after[0], after[1], sizeof after[0]), "other weights with the cache: %g, not %g",
          (double)after[1][0], (double)after[0][0]);
}

/* ---- An operator by callbacks ---- */

static bool half_shape(void *user, const ft_shape *inputs, int count, ft_shape *output)
{
    (void)user;
    if (count != 1 || inputs[0].rank != 4 || inputs[0].size[1] % 2) return false;
    *output = inputs[0];
    output->size[1] /= 2;
    return true;
}

/* The first half of the channels, as ft_slice takes them. */
static void half_forward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    const int *s = output->shape.size;
    size_t each = (size_t)s[1] * (size_t)s[2] * (size_t)s[3];
    int n;
    (void)user;
    (void)count;
    for (n = 0; n < s[0]; ++n)
        memcpy(output->values + (size_t)n * each, inputs[0].values + 2 * (size_t)n * each,
               each * sizeof(float));
}

static void half_backward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    const int *s = output->shape.size;
    size_t each = (size_t)s[1] * (size_t)s[2] * (size_t)s[3], i;
    int n;
    (void)user;
    (void)count;
    for (n = 0; inputs[0].gradient && n < s[0]; ++n)
        for (i = 0; i < each; ++i)
            inputs[0].gradient[2 * (size_t)n * each + i] += output->gradient[(size_t)n * each + i];
}

static const ft_custom_options half_options = {half_shape, half_forward, half_backward, NULL};

/* A network of convolutions with and without it: a custom operator or a slice. */
static ft_model *halves(bool custom, size_t budget)
{
    ft_desc desc = {.threads = 2, .seed = 5, .memory_budget = budget};
    ft_model *m = ft_create(desc);
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, 12, 12}});
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    ft_slice_options first = {.stop = {0, 4}};
    int layer;
    for (layer = 0; layer < 6; ++layer) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", layer);
        x = activation(m, "relu", ft_conv2d(m, name, x, 8, conv));
        if (layer != 2) continue;
        if (custom) x = ft_custom(m, "half", &x, 1, half_options);
        else x = ft_slice(m, "half", x, first);
    }
    x = ft_linear(m, "fc", ft_flatten(m, NULL, ft_global_avg_pool(m, NULL, x)), 4, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    return m;
}

static void train_halves(ft_model *m)
{
    enum { COUNT = 4 };
    static float x[COUNT * 3 * 12 * 12];
    static const int labels[COUNT] = {0, 3, 1, 2};
    int i;
    for (i = 0; i < COUNT * 3 * 12 * 12; ++i) x[i] = (float)((i * 31 + i / 13) % 29) / 14 - 1;
    for (i = 0; i < 3; ++i) {
        ft_feed(m, ft_find(m, "input"), x, COUNT);
        ft_feed(m, ft_find(m, "labels"), labels, COUNT);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

static void test_custom(void)
{
    ft_model *m = halves(false, 0), *other = halves(true, 0);
    ft_node x, odd;
    static const float pictures[2 * 3 * 12 * 12];
    static const int labels[2] = {1, 3};
    ft_plan_bytes bytes;
    uint64_t want;
    train_halves(m);
    train_halves(other);
    want = fingerprint(m);
    CHECK(want == fingerprint(other), "other weights than with ft_slice");
    bytes = ft_plan(other, 4, true);
    ft_destroy(m);
    m = halves(true, bytes.total - bytes.activations / 3); /* values are computed again in backward */
    train_halves(m);
    CHECK(want == fingerprint(m), "other weights with a budget");
    ft_destroy(m);
    ft_save(other, "build/custom.safetensors", (ft_save_options){0});
    expect(other, FT_UNSUPPORTED, "half is an operator of ft_custom");
    ft_fit(other, ft_arrays(other, 2, pictures, labels, (ft_array_options){0}),
           (ft_fit_options){.epochs = 1, .checkpoint = "build/custom.safetensors"});
    expect(other, FT_UNSUPPORTED, "half is an operator of ft_custom");
    ft_save(other, "build/custom.safetensors", (ft_save_options){.weights_only = true});
    m = halves(true, 0);
    ft_load_weights(m, "build/custom.safetensors", (ft_weights_options){0});
    CHECK(ft_error(m) == FT_OK && want == fingerprint(m), "weights alone: %s", ft_error_text(m));
    ft_destroy(m);
    x = ft_find(other, "input");
    odd = ft_custom(other, "odd", &x, 1, half_options);
    CHECK(!odd.id, "three channels are halved");
    expect(other, FT_SHAPE, "odd: its shape function refuses");
    ft_custom(other, "none", &x, 1, (ft_custom_options){0});
    expect(other, FT_INVALID, "forward");
    ft_destroy(other);
    CHECK(calls[0] == 2 && calls[1] == 2, "wave was called %d and %d times", calls[0], calls[1]);
}

/* The sum of x, whatever the labels are. */
static bool one_number(void *user, const ft_shape *inputs, int count, ft_shape *output)
{
    (void)user;
    *output = inputs[0];
    output->rank = 1;
    output->size[0] = 1;
    return count == 2;
}

static void sum_forward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    int i;
    (void)user;
    (void)count;
    output->values[0] = 0;
    for (i = 0; i < inputs[0].shape.size[0] * 3; ++i) output->values[0] += inputs[0].values[i];
}

static void sum_backward(void *user, const ft_view *inputs, int count, const ft_view *output)
{
    int i;
    (void)user;
    (void)count;
    for (i = 0; inputs[0].gradient && i < inputs[0].shape.size[0] * 3; ++i)
        inputs[0].gradient[i] += output->gradient[0];
}

/* A loss of one's own may read integers that are no classes of the output: they are not scored. */
static void test_no_classes(void)
{
    static const float x[8 * 2] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int labels[8 * 4] = {1, 2, 0, 1, 2};
    ft_array more = {"labels", labels};
    ft_model *m = ft_create((ft_desc){0});
    ft_node inputs[2];
    ft_fit_result r;
    inputs[0] = ft_linear(m, "fc", ft_input(m, "input", (ft_input_options){.size = {2}}), 3,
                          (ft_linear_options){0});
    inputs[1] = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {4}});
    ft_set_output(m, inputs[0]);
    ft_set_loss(m, ft_custom(m, "loss", inputs, 2, (ft_custom_options){one_number, sum_forward,
                                                                       sum_backward, NULL}));
    r = ft_fit(m, ft_arrays(m, 8, x, NULL, (ft_array_options){.more = &more, .more_count = 1}),
               (ft_fit_options){.epochs = 2});
    CHECK(ft_error(m) == FT_OK && r.epochs == 2 && r.accuracy == -1, "%s: accuracy %g", ft_error_text(m),
          r.accuracy);
    ft_set_output(m, ft_matmul(m, NULL, inputs[0], inputs[0], (ft_matmul_options){.transpose_b = true}));
    CHECK(ft_class_count(m) == 0, "%d classes of [N, N]", ft_class_count(m));
    ft_destroy(m);
}

/* ---- Constants in files; errors ---- */

static void test_constant(void)
{
    static const int sizes[2] = {2, 3};
    float values[6] = {1, 2, 3, -4, 5, 6}, x[3] = {10, 20, 30}, y[2][6], none = 7;
    ft_model *m = ft_create((ft_desc){0});
    ft_node a = ft_input(m, "input", (ft_input_options){.size = {1, 3}}), shift;
    int i;
    shift = ft_constant(m, "table", 2, sizes, values);
    ft_set_output(m, ft_mul(m, "y", a, ft_add(m, NULL, shift, ft_constant(m, "one", 0, NULL, &none))));
    for (i = 0; i < 2; ++i) {
        ft_run(m, x, 1, y[i], 6);
        CHECK(CLOSE(y[i][4], 20.0 * (5 + 7), 1e-5), "%s: %g", ft_error_text(m), (double)y[i][4]);
        CHECK(ft_freeze(m, "*") == 0 && ft_initialise(m, "*", FT_INIT_ZEROS) == 0, "a constant is no weight");
        if (i == 0) ft_save(m, "build/constant.safetensors", (ft_save_options){0});
        ft_destroy(m);
        m = ft_create((ft_desc){0});
        if (i == 0) ft_load(m, "build/constant.safetensors", (ft_load_options){0});
    }
    ft_constant(m, "none", 1, sizes, NULL);
    expect(m, FT_INVALID, "none");
    ft_destroy(m);
}

static void test_errors(void)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {3}});
    ft_node y = ft_input(m, "y", (ft_input_options){.size = {2}});
    unary(m, "cube", x);
    expect(m, FT_INVALID, "unknown function of a node; it must be one of exp, log");
    binary(m, "pow", x, x);
    expect(m, FT_INVALID, "unknown function of two nodes; it must be one of add");
    ft_reduce(m, "max", NULL, x, (ft_reduce_options){0});
    expect(m, FT_INVALID, "mean, sum, amax");
    ft_unary(m, "exp", "e", x, (ft_unary_options){.scale = 2});
    expect(m, FT_INVALID, "e: scale has no effect here");
    ft_unary(m, "pow", "e", x, (ft_unary_options){0});
    expect(m, FT_INVALID, "exponent");
    ft_unary(m, "clamp", "e", x, (ft_unary_options){.min = 1, .max = 1});
    expect(m, FT_INVALID, "min must be below max");
    ft_reduce(m, "sum", "s", x, (ft_reduce_options){.axes = {2}, .count = 1});
    expect(m, FT_SHAPE, "axis 2 of [N, 3]");
    binary(m, "sub", x, y);
    expect(m, FT_SHAPE, "cannot be broadcast");
    ft_set_loss(m, unary(m, "exp", x));
    expect(m, FT_SHAPE, "one number");
    ft_destroy(m);
}

int main(void)
{
    static const struct { const char *name; loss_of loss; } cases[] = {
        {"l1", l1}, {"cosine", cosine}, {"focal", focal}, {"focal_classes", focal_classes},
        {"infonce", infonce}, {"wave", wave}};
    ft_model *m = ft_create((ft_desc){0});
    size_t i;
    golden = ft_file_open(m, GOLDEN, (ft_weights_options){0});
    CHECK(golden != NULL, "%s", ft_error_text(m));
    for (i = 0; golden && i < 2 * sizeof cases / sizeof cases[0]; ++i)
        test_loss(cases[i / 2].name, cases[i / 2].loss, i % 2 ? 3 : 1);
    if (golden) test_siamese();
    ft_file_close(golden);
    golden = open_golden(m, "more_losses");
    for (i = 0; i < sizeof named / sizeof named[0]; ++i) test_named(i);
    ft_file_close(golden);
    golden = open_golden(m, "ctc");
    for (i = 0; i < sizeof sequences / sizeof sequences[0]; ++i) test_ctc(i);
    test_read_steps();
    test_reading();
    test_decode();
    test_exchanged();
    test_probabilities();
    test_teacher();
    test_best_labels(1);
    test_best_labels(4);
    test_best_numbers();
    test_detach();
    test_prefix();
    test_custom();
    test_no_classes();
    test_constant();
    test_errors();
    ft_file_close(golden);
    ft_destroy(m);
    return check_done("test_losses");
}
