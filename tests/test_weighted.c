/* test_weighted.c - weights of samples and classes in the loss, against PyTorch (make_nodes.py), float
   targets of ft_arrays, and progress while the frozen layers' outputs are computed. */
#include "public.h"
#include "goldens.h"
#include "log.h"

#define GOLDEN "tests/golden/weighted.safetensors"

enum { SAMPLES = 6, CLASSES = 4, MOST = SAMPLES * 3 * CLASSES };

static ft_file *golden;

/* Reads CASE/KEY; returns how many numbers it has, 0 if it is not there. */
static size_t read_golden(const char *name, const char *key, float *to)
{
    char both[64];
    ft_tensor_info info;
    size_t count = 1;
    int at, d;
    snprintf(both, sizeof both, "%s/%s", name, key);
    at = ft_file_find(golden, both);
    if (at < 0) return 0;
    info = ft_file_tensor(golden, at);
    for (d = 0; d < info.shape.rank; ++d) count *= (size_t)info.shape.size[d];
    ft_file_read_f32(golden, at, to, count);
    return count;
}

typedef struct golden_case {
    const char *name, *loss;
    float smoothing;
    int steps;              /* rows of logits of a sample */
    float x[MOST], dx[MOST], y, target[MOST], w[SAMPLES], c[CLASSES];
    int labels[SAMPLES * 3];
    bool has_labels, has_weights, has_classes;
} golden_case;

static void read_case(golden_case *g, const char *name)
{
    float labels[SAMPLES * 3];
    size_t count, i;
    memset(g, 0, sizeof *g);
    g->name = name;
    count = read_golden(name, "x", g->x);
    if (!count) {
        printf("%s: no case %s\n", GOLDEN, name);
        exit(1);
    }
    g->steps = (int)count / (SAMPLES * CLASSES);
    read_golden(name, "dx", g->dx);
    read_golden(name, "y", &g->y);
    read_golden(name, "t", g->target);
    g->has_weights = read_golden(name, "w", g->w) > 0;
    g->has_classes = read_golden(name, "c", g->c) > 0;
    count = read_golden(name, "labels", labels);
    g->has_labels = count > 0;
    for (i = 0; i < count; ++i) g->labels[i] = (int)labels[i];
    g->smoothing = strstr(name, "0.1") ? 0.1f : 0;
    g->loss = g->has_labels ? "cross" : name;
}

/* Losses that are made of nodes: their mean has the weights. */
static ft_node loss_of_nodes(ft_model *m, const golden_case *g, ft_node x)
{
    static const int classes = CLASSES;
    static const float ones[CLASSES] = {1, 1, 1, 1};
    ft_node target = ft_input(m, "target", (ft_input_options){.size = {CLASSES}}), d;
    ft_loss_options o = {0};
    if (!strcmp(g->loss, "binary in nodes")) {
        o.positive_weight = ft_constant(m, "ones", 1, &classes, ones);
        return ft_loss_by_kind(m, "binary_cross_entropy", "loss", x, target, o);
    }
    d = ft_binary(m, "sub", "difference", x, target);
    return ft_reduce(m, "mean", "loss", ft_mul(m, "square", d, d), (ft_reduce_options){0});
}

static ft_node loss_of(ft_model *m, const golden_case *g, ft_node x)
{
    ft_input_options labels = {.type = FT_I32}, target = {.size = {CLASSES}};
    if (g->steps > 1) labels.size[0] = g->steps;
    if (g->has_labels)
        return ft_cross_entropy(m, "loss", x, ft_input(m, "labels", labels),
                                (ft_loss_options){.label_smoothing = g->smoothing});
    if (strstr(g->loss, "nodes")) return loss_of_nodes(m, g, x);
    if (!strcmp(g->loss, "soft")) return ft_soft_cross_entropy(m, "loss", x, ft_input(m, "target", target));
    if (!strcmp(g->loss, "mse")) return ft_mse(m, "loss", x, ft_input(m, "target", target));
    return ft_binary_cross_entropy(m, "loss", x, ft_input(m, "target", target));
}

/* ---- ft_fit: row i of the logits is column i of a weight, since the input is row i of the identity. A
   step of SGD with rate 1 subtracts just their gradient. ---- */
static bool one_row(void *user, int index, int view, ft_slot *slots, int count)
{
    const golden_case *g = (const golden_case *)user;
    int s, k, rows = SAMPLES * g->steps;
    (void)view;
    for (s = 0; s < count; ++s) {
        float *to = (float *)slots[s].values;
        if (!strcmp(slots[s].name, "labels"))
            memcpy(to, g->labels + index * g->steps, (size_t)g->steps * sizeof(int));
        else if (!strcmp(slots[s].name, "target")) memcpy(to, g->target + index * CLASSES, CLASSES * sizeof *to);
        else for (k = 0; k < g->steps; ++k) to[k * rows + index * g->steps + k] = 1;
    }
    return true;
}

static float weight_of_sample(void *user, int index) { return ((const golden_case *)user)->w[index]; }

static void fit_case(golden_case *g)
{
    ft_model *m = ft_create((ft_desc){.seed = 1, .threads = 2});
    int rows = SAMPLES * g->steps, i, k;
    ft_input_options in = {.size = {rows}};
    ft_source source = {.user = g, .count = SAMPLES, .get = one_row,
                        .weight = g->has_weights ? weight_of_sample : NULL};
    ft_fit_options o = {.epochs = 1, .batch_size = SAMPLES, .optimizer = {.optimizer = FT_SGD, .learning_rate = 1}};
    float weight[MOST];
    ft_fit_result r;
    ft_node x;
    if (g->steps > 1) in = (ft_input_options){.size = {g->steps, rows}};
    x = ft_linear(m, "fc", ft_input(m, "input", in), CLASSES, (ft_linear_options){.no_bias = true});
    ft_set_output(m, x);
    ft_set_loss(m, loss_of(m, g, x));
    for (i = 0; i < rows; ++i)
        for (k = 0; k < CLASSES; ++k) weight[k * rows + i] = g->x[i * CLASSES + k];
    ft_set(m, ft_find(m, "fc.weight"), weight, (size_t)(rows * CLASSES));
    if (g->has_classes) {
        o.class_weights = g->c;
        o.class_weight_count = CLASSES;
    }
    r = ft_fit(m, ft_data_source(m, source), o);
    ft_get(m, ft_find(m, "fc.weight"), weight, (size_t)(rows * CLASSES));
    CHECK(ft_error(m) == FT_OK, "%s: %s", g->name, ft_error_text(m));
    CHECK(CLOSE(r.loss, g->y, 1e-5 * (double)fabsf(g->y)), "%s: loss %g, not %g", g->name, r.loss, (double)g->y);
    for (i = 0; i < rows; ++i)
        for (k = 0; k < CLASSES; ++k) {
            float got = g->x[i * CLASSES + k] - weight[k * rows + i], want = g->dx[i * CLASSES + k];
            CHECK(CLOSE(got, want, 1e-6), "%s: gradient %d, %d is %g, not %g", g->name, i, k, (double)got,
                  (double)want);
        }
    ft_destroy(m);
}

/* ---- By hand; weights of classes are factors of the samples' ---- */
static void hand_case(golden_case *g)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_input_options in = {.size = {CLASSES}};
    float w[SAMPLES], dx[MOST], loss, again;
    ft_node x;
    int i;
    if (g->steps > 1) in = (ft_input_options){.size = {g->steps, CLASSES}};
    if (g->has_classes && (g->smoothing > 0 || g->steps > 1)) { /* these need the class of each term */
        ft_destroy(m);
        return;
    }
    x = ft_input(m, "x", in);
    ft_set_loss(m, loss_of(m, g, x));
    ft_want_gradient(m, x);
    for (i = 0; i < SAMPLES; ++i) {
        w[i] = g->has_weights ? g->w[i] : 1;
        if (g->has_classes && g->labels[i] >= 0) w[i] *= g->c[g->labels[i]];
    }
    ft_feed(m, x, g->x, SAMPLES);
    ft_feed(m, g->has_labels ? ft_find(m, "labels") : ft_find(m, "target"),
            g->has_labels ? (const void *)g->labels : (const void *)g->target, SAMPLES);
    ft_feed_weights(m, w, SAMPLES);
    loss = ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, x, dx, (size_t)(SAMPLES * g->steps * CLASSES));
    again = ft_forward(m, false);
    CHECK(ft_error(m) == FT_OK, "%s: %s", g->name, ft_error_text(m));
    CHECK(CLOSE(loss, g->y, 1e-5 * (double)fabsf(g->y)) && again == loss, "%s: loss %g, not %g", g->name,
          (double)loss, (double)g->y);
    for (i = 0; i < SAMPLES * g->steps * CLASSES; ++i)
        CHECK(CLOSE(dx[i], g->dx[i], 1e-6), "%s: gradient %d is %g, not %g", g->name, i, (double)dx[i],
              (double)g->dx[i]);
    ft_feed_weights(m, NULL, 0);
    again = ft_forward(m, true);
    CHECK(again != loss && ft_error(m) == FT_OK, "%s: without weights %g", g->name, (double)again);
    memset(w, 0, sizeof w); /* no sample counts */
    ft_feed_weights(m, w, SAMPLES);
    again = ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, x, dx, (size_t)(SAMPLES * g->steps * CLASSES));
    CHECK(again == 0 && ft_error(m) == FT_OK, "%s: %g, %s", g->name, (double)again, ft_error_text(m));
    for (i = 0; i < SAMPLES * g->steps * CLASSES; ++i) CHECK(dx[i] == 0, "%s: gradient %d", g->name, i);
    ft_feed_weights(m, w, SAMPLES - 1);
    ft_forward(m, true);
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "5 weights, but the batch has 6"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

static void test_golden(void)
{
    static const char *const cases[] = {"classes0.0", "classes0.1", "samples0.0", "samples0.1", "both0.0",
                                        "both0.1", "steps", "soft", "binary", "mse"};
    golden_case g;
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
        read_case(&g, cases[i]);
        fit_case(&g);
        hand_case(&g);
        if (strcmp(cases[i], "binary") != 0 && strcmp(cases[i], "mse") != 0) continue;
        g.loss = !strcmp(cases[i], "mse") ? "mse in nodes" : "binary in nodes";
        fit_case(&g);
        hand_case(&g);
    }
}

/* ---- Losses that are computed from several means or sums: naive loops ---- */

/* Of logits x and targets t [SAMPLES, CLASSES], with the samples' weights w. */
typedef double (*weighted_loss)(const double *x, const float *t, const int *labels, const float *w);

static double log_soft(const double *x, int k, double by)
{
    double all = 0;
    int i;
    for (i = 0; i < CLASSES; ++i) all += exp(x[i] / by);
    return x[k] / by - log(all);
}

/* (1 - a) sum(w ce) / sum(w) + a T^2 sum(w kl) / sum(w), T = 3, a = 0.75. */
static double naive_distillation(const double *x, const float *t, const int *labels, const float *w)
{
    double sum = 0, weights = 0, teacher[CLASSES];
    int n, k;
    for (n = 0; n < SAMPLES; ++n, x += CLASSES, t += CLASSES) {
        double kl = 0;
        for (k = 0; k < CLASSES; ++k) teacher[k] = (double)t[k];
        for (k = 0; k < CLASSES; ++k)
            kl += exp(log_soft(teacher, k, 3)) * (log_soft(teacher, k, 3) - log_soft(x, k, 3));
        sum += (double)w[n] * (0.75 * 9 * kl - 0.25 * log_soft(x, labels[n], 1));
        weights += (double)w[n];
    }
    return sum / weights;
}

/* Each sum over samples has their weights; smooth is 0.5. */
static double naive_dice(const double *x, const float *t, const int *labels, const float *w)
{
    double loss = 0;
    int n, k;
    (void)labels;
    for (k = 0; k < CLASSES; ++k) {
        double both = 0, all = 0;
        for (n = 0; n < SAMPLES; ++n) {
            double p = 1 / (1 + exp(-x[n * CLASSES + k])), target = (double)t[n * CLASSES + k];
            both += (double)w[n] * p * target;
            all += (double)w[n] * (p + target);
        }
        loss += (1 - (2 * both + 0.5) / (all + 0.5)) / CLASSES;
    }
    return loss;
}

/* Twice a mean. */
static double naive_twice(const double *x, const float *t, const int *labels, const float *w)
{
    double sum = 0, weights = 0;
    int n, k;
    (void)labels;
    for (n = 0; n < SAMPLES; ++n)
        for (k = 0; k < CLASSES; ++k) {
            double off = x[n * CLASSES + k] - (double)t[n * CLASSES + k];
            sum += 2 * (double)w[n] * off * off;
            weights += (double)w[n];
        }
    return sum / weights;
}

static ft_node loss_of_several(ft_model *m, int which, ft_node x, ft_node t, ft_node labels)
{
    ft_node mse;
    if (which == 0) return ft_distillation(m, "loss", x, t, labels, (ft_loss_options){.temperature = 3, .alpha = 0.75f});
    if (which == 1) return ft_loss_by_kind(m, "dice", "loss", x, t, (ft_loss_options){.smooth = 0.5f});
    mse = ft_mse(m, "mse", x, t);
    return ft_add(m, "loss", mse, mse);
}

/* The loss and its gradient, by central differences of the naive loops; a sample of weight 2 counts as if it were
   there twice. */
static void test_several(int which)
{
    static const weighted_loss losses[] = {naive_distillation, naive_dice, naive_twice};
    static const int labels[SAMPLES] = {1, 0, 3, 2, 2, 1};
    static const float w[SAMPLES] = {1, 2, 0, 1, 1, 3};
    ft_model *m = ft_create((ft_desc){.threads = 2});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {CLASSES}});
    ft_node t = ft_input(m, "t", (ft_input_options){.size = {CLASSES}});
    ft_node l = ft_input(m, "l", (ft_input_options){.type = FT_I32});
    float values[8 * CLASSES], targets[8 * CLASSES], dx[8 * CLASSES], loss;
    double logits[SAMPLES * CLASSES], want;
    int i, more[8], of[] = {0, 1, 1, 3, 4, 5, 5, 5};
    ft_set_loss(m, loss_of_several(m, which, x, t, l));
    ft_want_gradient(m, x);
    for (i = 0; i < SAMPLES * CLASSES; ++i) {
        values[i] = (float)sin(1.3 * i) * 2;
        targets[i] = which == 0 ? (float)cos(0.7 * i) * 3 : (float)(i % 3) / 2;
        logits[i] = (double)values[i];
    }
    ft_feed(m, x, values, SAMPLES);
    ft_feed(m, t, targets, SAMPLES);
    if (which == 0) ft_feed(m, l, labels, SAMPLES);
    CHECK(ft_feed_weights(m, w, SAMPLES) == FT_OK, "%s", ft_error_text(m));
    loss = ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, x, dx, SAMPLES * CLASSES);
    want = losses[which](logits, targets, labels, w);
    CHECK(ft_error(m) == FT_OK && CLOSE(loss, want, 1e-5 * fabs(want)), "loss %d: %g, not %g: %s", which, (double)loss,
          want, ft_error_text(m));
    for (i = 0; i < SAMPLES * CLASSES; ++i) {
        double high, low, at = logits[i];
        logits[i] = at + 1e-5;
        high = losses[which](logits, targets, labels, w);
        logits[i] = at - 1e-5;
        low = losses[which](logits, targets, labels, w);
        logits[i] = at;
        CHECK(CLOSE(dx[i], (high - low) / 2e-5, 1e-5), "loss %d: gradient %d is %g, not %g", which, i, (double)dx[i],
              (high - low) / 2e-5);
    }
    for (i = 7; i >= 0; --i) {
        memmove(values + i * CLASSES, values + of[i] * CLASSES, CLASSES * sizeof *values);
        memmove(targets + i * CLASSES, targets + of[i] * CLASSES, CLASSES * sizeof *targets);
        more[i] = labels[of[i]];
    }
    ft_feed_weights(m, NULL, 0);
    ft_feed(m, x, values, 8);
    ft_feed(m, t, targets, 8);
    if (which == 0) ft_feed(m, l, more, 8);
    CHECK(CLOSE(ft_forward(m, true), loss, 1e-5 * fabs(want)), "loss %d: repeated samples: not %g: %s", which,
          (double)loss, ft_error_text(m));
    ft_destroy(m);
}

/* ---- Runs over arrays: two layers, of which the first can be frozen ---- */
enum { COUNT = 30, WIDE = 5, KINDS = 3 };

static void make_arrays(float *x, int *labels, float *targets, float *weights)
{
    int i;
    for (i = 0; i < COUNT * WIDE; ++i) x[i] = (float)sin(0.7 * i) + (float)(i % 7) * 0.1f;
    for (i = 0; i < COUNT; ++i) {
        labels[i] = i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 2; /* 18, 9 and 3 of them */
        targets[2 * i] = x[i * WIDE] - x[i * WIDE + 1];
        targets[2 * i + 1] = (float)cos(0.3 * i);
        weights[i] = (float)(i % 4) * 0.5f;
    }
}

static ft_model *small(bool regression, const char *cache)
{
    ft_model *m = ft_create((ft_desc){.seed = 4, .threads = 1, .log = collect, .cache = cache});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {WIDE}});
    log_text[0] = 0;
    x = ft_activation(m, "tanh", NULL, ft_linear(m, "a", x, 8, (ft_linear_options){0}),
                      (ft_activation_options){0});
    x = ft_linear(m, "b", x, regression ? 2 : KINDS, (ft_linear_options){0});
    ft_set_output(m, x);
    if (regression) ft_set_loss(m, ft_mse(m, "loss", x, ft_input(m, "target", (ft_input_options){.size = {2}})));
    else ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                         (ft_loss_options){0}));
    return m;
}

typedef struct run { uint64_t weights; ft_fit_result fit; ft_evaluation e; } run;

static run fit_arrays(const float *weights, const float *class_weights, bool balanced, bool frozen, bool no_cache)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT];
    int labels[COUNT];
    ft_model *m = small(false, NULL);
    ft_fit_options o = {.epochs = 3, .batch_size = 8, .no_cache = no_cache, .balanced = balanced,
                        .class_weights = class_weights, .class_weight_count = class_weights ? KINDS : 0};
    ft_data *data;
    run out;
    make_arrays(x, labels, targets, w);
    data = ft_arrays(m, COUNT, x, labels, (ft_array_options){.weights = weights});
    if (frozen) ft_freeze(m, "a.*");
    out.fit = ft_fit(m, data, o);
    out.e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    out.weights = fingerprint(m);
    if (balanced)
        CHECK(strstr(log_text, "balanced: the weights of the 3 classes are 0.556 to 3.33"), "%s", log_text);
    /* What is measured has no weights: the mean over all samples, computed from the outputs. */
    {
        float logits[COUNT * KINDS];
        double sum = 0;
        int i, k;
        ft_run(m, x, COUNT, logits, COUNT * KINDS);
        for (i = 0; i < COUNT; ++i) {
            double all = 0;
            for (k = 0; k < KINDS; ++k) all += exp((double)logits[i * KINDS + k]);
            sum += log(all) - (double)logits[i * KINDS + labels[i]];
        }
        CHECK(CLOSE(out.e.loss, sum / COUNT, 1e-5), "measured %g, not %g", out.e.loss, sum / COUNT);
    }
    ft_destroy(m);
    return out;
}

static void test_fit(void)
{
    /* 30 / (3 * 18), 30 / (3 * 9), 30 / (3 * 3) */
    const float balance[KINDS] = {30.0f / 54, 30.0f / 27, 30.0f / 9}, ones[KINDS] = {1, 1, 1};
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT], one[COUNT];
    int labels[COUNT], i, frozen;
    run plain, a, b;
    make_arrays(x, labels, targets, w);
    for (i = 0; i < COUNT; ++i) one[i] = 1;
    for (frozen = 0; frozen < 2; ++frozen) {
        plain = fit_arrays(NULL, NULL, false, frozen, false);
        a = fit_arrays(one, NULL, false, frozen, false);
        CHECK(a.weights == plain.weights && a.fit.loss == plain.fit.loss, "weights of 1 change nothing");
        a = fit_arrays(NULL, ones, false, frozen, false);
        CHECK(a.weights == plain.weights && a.fit.loss == plain.fit.loss, "class weights of 1 change nothing");
        a = fit_arrays(w, balance, false, frozen, false);
        b = fit_arrays(w, balance, false, frozen, true);
        CHECK(frozen ? fabs(a.e.loss - b.e.loss) < 1e-6 : a.weights == b.weights, "the cache: %g and %g", a.e.loss,
              b.e.loss);
        CHECK(a.weights != plain.weights, "weights have an effect");
        a = fit_arrays(NULL, balance, false, frozen, false);
        b = fit_arrays(NULL, NULL, true, frozen, false);
        CHECK(a.weights == b.weights && a.weights != plain.weights, "balanced");
        /* Each sample's weight is its class's: the same mean. */
        for (i = 0; i < COUNT; ++i) one[i] = balance[labels[i]];
        b = fit_arrays(one, NULL, false, frozen, false);
        CHECK(a.weights == b.weights, "by samples: %g and %g", a.e.loss, b.e.loss);
        for (i = 0; i < COUNT; ++i) one[i] = 1;
    }
}

/* A run is continued only with the same weights. */
static void test_resume(void)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT];
    int labels[COUNT], which;
    make_arrays(x, labels, targets, w);
    for (which = 0; which < 4; ++which) { /* the same, other sample weights, class weights, targets */
        ft_model *m = small(which == 3, NULL);
        float c[KINDS] = {1, 2, 3};
        ft_fit_options o = {.epochs = 2, .checkpoint = "build/weighted_point", .class_weights = c,
                            .class_weight_count = KINDS};
        if (which == 0) remove(o.checkpoint);
        if (which == 1) w[5] += 1;
        if (which == 2) w[5] -= 1, c[1] = 2.5f;
        if (which < 3) ft_fit(m, ft_arrays(m, COUNT, x, labels, (ft_array_options){.weights = w}), o);
        else {
            o.class_weights = NULL;
            o.class_weight_count = 0;
            remove(o.checkpoint);
            ft_fit(m, ft_arrays(m, COUNT, x, NULL, (ft_array_options){.targets = targets, .target_size = 2}), o);
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            ft_destroy(m);
            m = small(true, NULL);
            targets[7] += 1;
            ft_fit(m, ft_arrays(m, COUNT, x, NULL, (ft_array_options){.targets = targets, .target_size = 2}), o);
        }
        CHECK(ft_error(m) == (which ? FT_INVALID : FT_OK), "%d: %s", which, ft_error_text(m));
        ft_destroy(m);
    }
    remove("build/weighted_point");
}

/* ---- Float targets ---- */
static void test_targets(void)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT], out[COUNT * 2];
    int labels[COUNT], i, k;
    ft_model *m = small(true, NULL);
    ft_array_options o = {.target_size = 2};
    ft_fit_result r;
    ft_evaluation e;
    ft_data *data;
    double mse = 0, r2 = 0;
    make_arrays(x, labels, targets, w);
    o.targets = targets;
    data = ft_arrays(m, COUNT, x, NULL, o);
    r = ft_fit(m, data, (ft_fit_options){.epochs = 60, .hold_back = 0.2f, .optimizer = {.learning_rate = 0.02f}});
    e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 7});
    ft_run(m, x, COUNT, out, COUNT * 2);
    for (k = 0; k < 2; ++k) {
        double mean = 0, error = 0, spread = 0;
        for (i = 0; i < COUNT; ++i) mean += (double)targets[2 * i + k] / COUNT;
        for (i = 0; i < COUNT; ++i) {
            error += pow((double)out[2 * i + k] - (double)targets[2 * i + k], 2);
            spread += pow((double)targets[2 * i + k] - mean, 2);
        }
        mse += error / (2 * COUNT);
        r2 += (1 - error / spread) / 2;
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(e.regression && CLOSE(e.mse, mse, 1e-6) && CLOSE(e.r2, r2, 1e-6) && CLOSE(e.loss, mse, 1e-6)
          && e.total == COUNT, "mse %g, not %g; R2 %g, not %g", e.mse, mse, e.r2, r2);
    CHECK(r2 > 0.5 && r.held_back_total == 6 && r.accuracy == -1 && ft_data_classes(data) == 0, "R2 is %g", r2);
    ft_destroy(m);
}

/* Of a regression the best epoch is that of the lowest held-back loss, whose weights are kept, and `patience` counts
   from it: the loss is that of the kept weights on the held-back samples, computed here. */
typedef struct losses { int epochs, best; double least; } losses;

static bool note_loss(void *user, const ft_progress *p)
{
    losses *l = (losses *)user;
    if (!p->epoch_done) return true;
    CHECK(p->held_back_accuracy < 0 && p->held_back_loss >= 0, "held back: %g", p->held_back_loss);
    if (l->epochs == 0 || p->held_back_loss < l->least) {
        l->least = p->held_back_loss;
        l->best = p->epoch;
    }
    l->epochs += 1;
    return true;
}

static void test_best_of_targets(void)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT], out[COUNT * 2];
    int labels[COUNT], held[COUNT], count, i;
    ft_model *m = small(true, NULL);
    losses seen = {0};
    ft_fit_options o = {.epochs = 200, .batch_size = 8, .hold_back = 0.3f, .best = true, .patience = 3,
                        .optimizer = {.learning_rate = 0.05f}, .progress = note_loss, .progress_user = &seen};
    ft_fit_result r;
    ft_data *data;
    double mse = 0;
    make_arrays(x, labels, targets, w);
    data = ft_arrays(m, COUNT, x, NULL, (ft_array_options){.target_size = 2, .targets = targets});
    r = ft_fit(m, data, o);
    count = ft_data_held_back(data, 0.3f, held, COUNT);
    ft_run(m, x, COUNT, out, COUNT * 2);
    for (i = 0; i < 2 * count; ++i) {
        int at = 2 * held[i / 2] + i % 2;
        mse += pow((double)out[at] - (double)targets[at], 2) / (2 * count);
    }
    CHECK(ft_error(m) == FT_OK && count == 9, "%d held back: %s", count, ft_error_text(m));
    CHECK(r.best_epoch == seen.best && r.epochs == seen.best + 1 + 3 && r.epochs == seen.epochs && r.epochs < 200,
          "best %d, not %d, of %d", r.best_epoch, seen.best, r.epochs);
    CHECK(CLOSE(r.held_back_loss, mse, 1e-6 * mse) && r.held_back_loss == seen.least, "loss %g, not %g, of %g",
          r.held_back_loss, mse, seen.least);
    ft_destroy(m);
}

/* ---- Progress while the frozen layers run, and stopping there ---- */
typedef struct seen { int preparing, steps, last, stop_at; bool in_order; } seen;

static bool see(void *user, const ft_progress *p)
{
    seen *s = (seen *)user;
    if (p->preparing) {
        s->preparing += 1;
        s->in_order = s->in_order && s->steps == 0 && p->step == s->preparing && p->step <= p->steps
            && p->batch > 0 && p->epoch == 0 && p->epochs == 2 && !p->epoch_done && p->accuracy == -1;
        s->last = p->steps;
        return s->preparing != s->stop_at;
    }
    if (!p->epoch_done) s->steps += 1;
    return true;
}

static void test_preparing(void)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT];
    int labels[COUNT], how;
    make_arrays(x, labels, targets, w);
    for (how = 0; how < 4; ++how) { /* cached, stopped at the second batch, not cached, not frozen */
        ft_model *m = small(false, NULL);
        seen s = {0, 0, 0, how == 1 ? 2 : 0, true};
        uint64_t before;
        ft_fit_result r;
        if (how < 3) ft_freeze(m, "a.*");
        before = fingerprint(m);
        r = ft_fit(m, ft_arrays(m, COUNT, x, labels, (ft_array_options){0}),
                   (ft_fit_options){.epochs = 2, .batch_size = 8, .hold_back = 0.3f, .no_cache = how == 2,
                                    .progress = see, .progress_user = &s});
        CHECK(ft_error(m) == FT_OK && s.in_order, "%d: %s", how, ft_error_text(m));
        if (how == 0) CHECK(s.preparing == s.last && s.preparing == 5 && s.steps == 6 && !r.stopped,
                            "%d of %d batches, %d steps", s.preparing, s.last, s.steps);
        if (how == 1) CHECK(s.preparing == 2 && s.steps == 0 && r.stopped && r.epochs == 0
                            && fingerprint(m) == before, "stopped after %d", s.preparing);
        if (how > 1) CHECK(s.preparing == 0 && s.steps == 6, "%d: %d batches", how, s.preparing);
        ft_destroy(m);
    }
}

/* ---- Errors ---- */
static void refused(ft_model *m, ft_status status, const char *text)
{
    CHECK(ft_error(m) == status && strstr(ft_error_text(m), text), "'%s' is expected, not '%s'", text,
          ft_error_text(m));
    ft_clear_error(m);
}

static void test_errors(void)
{
    float x[COUNT * WIDE], targets[COUNT * 2], w[COUNT], c[KINDS] = {1, 2, -1};
    int labels[COUNT];
    ft_model *m = small(false, NULL), *r = small(true, NULL);
    ft_data *data;
    ft_node rows;
    make_arrays(x, labels, targets, w);
    data = ft_arrays(m, COUNT, x, labels, (ft_array_options){0});
    ft_fit(m, data, (ft_fit_options){.class_weights = c, .class_weight_count = 2});
    refused(m, FT_SHAPE, "class_weight_count is 2, but the loss has 3");
    ft_fit(m, data, (ft_fit_options){.class_weights = c, .class_weight_count = 3});
    refused(m, FT_INVALID, "class_weights[2] is -1");
    ft_fit(m, data, (ft_fit_options){.class_weight_count = 3});
    refused(m, FT_INVALID, "class_weight_count has no effect");
    ft_fit(m, data, (ft_fit_options){.class_weights = c, .class_weight_count = 3, .balanced = true});
    refused(m, FT_INVALID, "balanced has no effect");
    w[4] = NAN;
    ft_fit(m, ft_arrays(m, COUNT, x, labels, (ft_array_options){.weights = w}), (ft_fit_options){0});
    refused(m, FT_INVALID, "sample 4 has the weight");
    ft_feed_weights(m, w, COUNT);
    refused(m, FT_INVALID, "weights[4] is");
    ft_feed_weights(m, w, 0);
    refused(m, FT_INVALID, "a batch of 0");
    ft_arrays(m, COUNT, x, labels, (ft_array_options){.target_size = 2});
    refused(m, FT_INVALID, "target_size has no effect");
    ft_arrays(m, COUNT, x, labels, (ft_array_options){.target = "t"});
    refused(m, FT_INVALID, "target has no effect");
    ft_arrays(r, COUNT, x, NULL, (ft_array_options){.targets = targets});
    refused(r, FT_INVALID, "target_size is 0");
    data = ft_arrays(r, COUNT, x, NULL, (ft_array_options){.targets = targets, .target_size = 3});
    ft_fit(r, data, (ft_fit_options){0});
    refused(r, FT_SHAPE, "target_size is 3, but \"target\" has 2 numbers");
    data = ft_arrays(r, COUNT, x, NULL, (ft_array_options){.targets = targets, .target_size = 2, .target = "goal"});
    ft_fit(r, data, (ft_fit_options){0});
    refused(r, FT_INVALID, "reads its values from \"target\"");
    data = ft_arrays(r, COUNT, x, NULL, (ft_array_options){.targets = targets, .target_size = 2});
    ft_fit(r, data, (ft_fit_options){.balanced = true});
    refused(r, FT_INVALID, "no labels of classes");
    /* Weights count in means and sums over samples, not in their largest number, nor in what has none. */
    rows = ft_reduce(m, "sum", "rows", ft_output(m), (ft_reduce_options){.axes = {-1}, .count = 1});
    ft_set_loss(m, ft_add(m, "both", ft_loss(m), ft_reduce(m, "amax", "largest", rows, (ft_reduce_options){0})));
    ft_feed_weights(m, w, COUNT);
    refused(m, FT_INVALID, "weights need a loss over the batch's samples");
    ft_set_loss(m, ft_reduce(m, "mean", "of weights", ft_find(m, "a.weight"), (ft_reduce_options){0}));
    ft_feed_weights(m, w, COUNT);
    refused(m, FT_INVALID, "weights need a loss over the batch's samples");
    CHECK(ft_feed_weights(NULL, w, 1) == FT_MEMORY, "a NULL model is accepted");
    ft_destroy(m);
    ft_destroy(r);
}

int main(void)
{
    ft_model *reader = ft_create((ft_desc){.threads = 1});
    golden = open_golden(reader, "weighted");
    test_golden();
    test_several(0);
    test_several(1);
    test_several(2);
    test_fit();
    test_resume();
    test_targets();
    test_best_of_targets();
    test_preparing();
    test_errors();
    ft_file_close(golden);
    ft_destroy(reader);
    return check_done("test_weighted");
}
