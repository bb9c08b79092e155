/* test_opencl.c - the training step on an OpenCL device: every case of test_operators.c against its
   naive loops, in each form of the matrix products; whole training steps against the CPU's; and
   kernels broken on purpose. Failures of OpenCL itself are in test_opencl_failures.c.
       build/test_opencl [--brief] [OPERATOR [CASE]]     repeats some alone; --brief: each once
       build/test_opencl --fits     all but the operators
   It uses OpenCL's first device: PoCL, which runs kernels on the CPU, is enough.
   The program contains the tests of test_operators.c too, and runs those if it is called by that
   name: a second program with the same tests would take 10 seconds more to compile. */
#define main operators_main
#include "test_operators.c"
#undef main

static bool called_operators(const char *program)
{
    const char *name = strrchr(program, '/');
    return strcmp(name ? name + 1 : program, "test_operators") == 0;
}

#ifdef FINETUNE_OPENCL
#include <signal.h>
#include "lockstep.h"

static char lines[16][300]; /* what was logged last */
static int line_count;

static void keep_line(void *user, const char *line)
{
    (void)user;
    snprintf(lines[line_count++ % 16], sizeof lines[0], "%s", line);
}

static bool was_said(const char *word)
{
    int i;
    for (i = 0; i < 16; ++i)
        if (strstr(lines[i], word)) return true;
    return false;
}

/* TEST_CACHE: an empty folder for the compiled kernels, where compiling takes many seconds. */
static ft_model *on(const char *device)
{
    ft_desc desc = {.threads = 2, .device = device, .log = keep_line, .seed = 4,
                    .cache = getenv("TEST_CACHE")};
    memset(lines, 0, sizeof lines);
    return ft_create(desc);
}

/* ---- Operators ---- */

/* Dropout draws the same numbers as the processor: bit for bit. */
static void test_device_dropout(ft__context *c, bool locked, bool per_sample)
{
    enum { N = 1000 };
    static float x[N], y[2][N], dy[N], dx[2][N];
    ft__tensor input;
    ft__node node;
    ft__call call;
    int i, side;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(&input, 0, sizeof input);
    for (i = 0; i < N; ++i) x[i] = dy[i] = (float)i - 300;
    node.op = FT__OP_dropout;
    node.name = (char *)(uintptr_t)"dropout";
    node.options.dropout.probability = 0.3f;
    node.options.dropout.locked = locked;
    node.options.dropout.per_sample = per_sample;
    input.shape = per_sample ? shape3(N / 20, 2, 10) : shape3(2, N / 20, 10);
    input.value = x;
    call.context = c;
    call.node = &node;
    call.input = &input;
    call.input_count = 1;
    call.output.shape = input.shape;
    call.output.gradient = dy;
    call.training = true;
    call.random = 0x123456789ABCDEF0u;
    for (side = 0; side < 2; ++side) {
        call.output.value = y[side];
        input.gradient = dx[side];
        if (side) ft__run_operator(&call, false);
        else ft__dropout_forward(&call);
        if (side) ft__run_operator(&call, true);
        else ft__dropout_backward(&call);
    }
    ft__to_host(c, y[1], sizeof y[1]);
    ft__to_host(c, dx[1], sizeof dx[1]);
    CHECK(!memcmp(y[0], y[1], sizeof y[0]), "dropout: other values on the device");
    CHECK(!memcmp(dx[0], dx[1], sizeof dx[0]), "dropout: another gradient on the device");
}

/* Rows whose maximum must be found, wherever it is, or exp overflows; and one with a NaN. */
static void test_device_softmax(ft__context *c, int op)
{
    enum { ROWS = 100, SIZE = 75 };
    static float x[ROWS * SIZE], y[2][ROWS * SIZE];
    ft__tensor input;
    ft__node node;
    ft__call call;
    int i;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(&input, 0, sizeof input);
    for (i = 0; i < ROWS * SIZE; ++i) x[i] = i % SIZE == i / SIZE ? 500.0f : (float)(i % 7);
    x[80 * SIZE + 70] = NAN;
    node.op = op;
    node.name = (char *)(uintptr_t)"softmax";
    node.options.activation.axis = -1;
    input.shape = call.output.shape = shape2(ROWS, SIZE);
    input.value = x;
    call.context = c;
    call.node = &node;
    call.input = &input;
    call.input_count = 1;
    call.output.value = y[0];
    ft__rows[op]->forward(&call);
    call.output.value = y[1];
    ft__run_operator(&call, false);
    ft__to_host(c, y[1], sizeof y[1]);
    for (i = 0; i < ROWS * SIZE; ++i) {
        if (i / SIZE == 80 ? !(y[1][i] != y[1][i]) : !CLOSE(y[0][i], y[1][i], 1e-5)) break;
        if (i / SIZE == 80 && !(y[0][i] != y[0][i])) break;
    }
    CHECK(i == ROWS * SIZE, "%s: row %d, number %d: %g, not %g", ft__rows[op]->name, i / SIZE,
          i % SIZE, (double)y[1][i], (double)y[0][i]);
}

/* The transforms divide by 6 and 24. */
static void test_winograd(ft_model *m)
{
    double usual = tolerance;
    m->context.device->form = FT__FORM_WINOGRAD;
    tolerance = 1e-4;
    only_form = WINOGRAD;
    memset(numbers, 0, sizeof numbers);
    conv_cases();
    only_form = ALL_FORMS;
    tolerance = usual;
    CHECK(ft_error(m) == FT_OK, "Winograd's form: %s", ft_error_text(m));
}

/* Operators without kernels: the processor computes them. */
static bool on_the_processor(int op)
{
    static const char *const names[] = {"custom", "linear_cross_entropy", "ctc_loss", "resize",
        "conv_transpose2d", "amin", "prod", "norm", "logsumexp", "tile", "to_i32", "to_f32", "cumsum",
        "topk", "token_counts"};
    size_t i = 0, count = sizeof names / sizeof names[0];
    while (i < count && strcmp(names[i], ft__rows[op]->name) != 0) ++i;
    return i < count;
}

static void test_forms(ft_model *m)
{
    static const int forms[] = {FT__FORM_WIDE, FT__FORM_TILED, FT__FORM_BLOCK, FT__FORM_PLAIN,
                                FT__FORM_CLBLAST};
    int i;
    contexts[0] = contexts[1] = contexts[2] = &m->context;
    on_device = true;
    m->context.device->unchecked = true;
    for (i = 0; i < (m->context.device->gemm ? 5 : 4); ++i) {
        m->context.device->form = forms[i];
        if (i == 0) run_cases();
        else {
            memset(numbers, 0, sizeof numbers);
            only_form = forms[i] == FT__FORM_BLOCK ? FOURS : ALL_FORMS;
            conv_cases();
            layer_cases();
            only_form = ALL_FORMS;
            briefly = true;
            sequence_cases();
            recurrent_cases();
            briefly = false;
        }
        CHECK(ft_error(m) == FT_OK, "form %d: %s", forms[i], ft_error_text(m));
    }
    test_winograd(m);
    test_device_dropout(&m->context, false, false);
    test_device_dropout(&m->context, true, false);
    test_device_dropout(&m->context, false, true);
    test_device_softmax(&m->context, FT__OP_softmax);
    test_device_softmax(&m->context, FT__OP_log_softmax);
    for (i = FT__OP_state + 1; i < FT__OP_COUNT; ++i)
        CHECK((ft__device_rows[i]->forward != NULL) != on_the_processor(i), "%s: a kernel?",
              ft__rows[i]->name);
}

static void run_one(const char *op, int number)
{
    memset(numbers, 0, sizeof numbers);
    only_op = op;
    only_case = number;
    run_cases();
}

/* The small cases, for a simulator that watches every access (test_kernels.sh), each once, with the
   tiled products, which share memory: the first of each operator, or those that are named. */
static void test_briefly(ft_model *m, const char *named, int number)
{
    ft__device *d = m->context.device;
    int op;
    contexts[0] = contexts[1] = contexts[2] = &m->context;
    d->unchecked = briefly = true;
    for (op = FT__OP_state + 1; op < FT__OP_COUNT; ++op) {
        const char *name = ft__rows[op]->name;
        if (named && strcmp(name, named) != 0) continue;
        d->form = FT__FORM_TILED;
        run_one(name, named ? number : 1);
        if (op != FT__OP_conv2d && op != FT__OP_lstm) continue;
        if (op == FT__OP_conv2d && !named) run_one(name, 18); /* depthwise */
        d->form = FT__FORM_WIDE;
        run_one(name, named ? number : 1);
        d->form = FT__FORM_BLOCK;
        if (named) continue;
        only_form = op == FT__OP_conv2d ? ONE_OF_FOURS : ALL_FORMS;
        run_one(name, op == FT__OP_conv2d ? -1 : 1);
        only_form = ALL_FORMS;
    }
    if (!named) {
        d->form = FT__FORM_WINOGRAD;
        run_one("conv2d", 13); /* cut tiles, padding */
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* ---- Whole steps ---- */

enum { BATCH = 4 };

enum { PIXELS = 3 * 32 * 32, WORDS = 30, LONGEST = 9 };

/* What is trained: pictures, texts that differ in length, or streams whose state is carried. */
typedef struct lesson {
    const char *network;
    enum { PICTURES, TEXTS, STREAMS } kind;
    ft_optimizer_options optimizer;
    const char *freeze;
    ft_network_options options;
} lesson;

/* Feeds a batch; both it and the length may be new in each step. Returns how many samples. */
static int feed(ft_model *m, const lesson *l, int step)
{
    static float x[BATCH * PIXELS];
    int32_t ids[BATCH * LONGEST], lengths[BATCH], labels[BATCH * LONGEST] = {0, 3, 4, 1};
    int batch = l->kind != PICTURES && step == 0 ? BATCH - 1 : BATCH, i;
    int steps = step == 1 ? LONGEST : LONGEST - 3;
    unsigned state = 11 + (unsigned)step;
    for (i = 0; i < BATCH * PIXELS; ++i) x[i] = (float)random_value(&state);
    for (i = 0; i < BATCH; ++i) lengths[i] = steps - 2 * i > 0 ? steps - 2 * i : 0;
    for (i = 0; i < BATCH * LONGEST; ++i) {
        ids[i] = (i * i + 5 * step) % WORDS;
        if (l->kind == TEXTS && i % steps >= lengths[i / steps % BATCH]) ids[i] = 0;
        if (l->kind == STREAMS) labels[i] = (ids[i] * 7 + 1) % WORDS;
    }
    if (l->kind != PICTURES) ft_set_length(m, steps);
    if (l->kind == PICTURES) ft_feed(m, ft_find(m, "input"), x, batch);
    else ft_feed(m, ft_find(m, "tokens"), ids, batch);
    if (l->kind == TEXTS) ft_feed(m, ft_find(m, "lengths"), lengths, batch);
    ft_feed(m, ft_find(m, "labels"), labels, batch);
    return batch;
}

static ft_model *untrained(const char *device, const lesson *l)
{
    ft_model *m = on(device);
    ft_network(m, l->network, l->options);
    if (l->freeze) ft_freeze(m, l->freeze);
    ft_set_optimizer(m, l->optimizer);
    return m;
}

/* Three steps; leaves the losses, and returns the model. The numbers fed are the same each time. */
static ft_model *train(const char *device, const lesson *l, float *losses)
{
    ft_model *m = untrained(device, l);
    int step;
    for (step = 0; step < 3; ++step) {
        feed(m, l, step);
        losses[step] = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    CHECK(ft_error(m) == FT_OK, "%s on %s: %s", l->network, device, ft_error_text(m));
    return m;
}

/* Gives a model on the processor the gradients of one on a device. */
static void give_gradients(ft_model *from, ft_model *to)
{
    int i;
    for (i = 0; i < to->node_count; ++i) {
        ft__node *node = &to->nodes[i];
        if (node->gradient && from->nodes[i].gradient)
            from_device(&from->context, node->gradient, from->nodes[i].gradient,
                        ft__node_count_at(node, ft__one));
    }
}

/* Three steps on both: on the device each operator is compared with the processor's, and the
   processor's model takes each step with the device's gradients, so that losses, weights, statistics
   and states must stay the same. Without that, one value that rounding moves to the other side of
   relu's corner changes gradients by a tenth: a run on the processor alone whose input is changed by
   1e-7 does the same in mobilenet_v1. */
static void train_both(ft_model *processor, ft_model *device, const lesson *l, float *here,
                       float *there)
{
    int step;
    for (step = 0; step < 3; ++step) {
        feed(processor, l, step);
        feed(device, l, step);
        here[step] = ft_forward(processor, true);
        ft_backward(processor);
        there[step] = step_in_lockstep(device);
        give_gradients(device, processor);
        ft_update(processor, 1e-3f);
        ft_update(device, 1e-3f);
    }
    CHECK(ft_error(processor) == FT_OK && ft_error(device) == FT_OK, "%s: %s%s", l->network,
          ft_error_text(processor), ft_error_text(device));
}

/* Every weight, statistic and state within `most` of its tensor's largest; 0: the same bits. */
static void compare_weights(const char *network, ft_model *a, ft_model *b, float most)
{
    int i;
    for (i = 1; i <= ft_node_count(a); ++i) {
        ft_node node = {i};
        const ft__node *n = ft__get_node(a, node);
        ft__extent extent = {BATCH, 1};
        size_t count, k;
        float *left, *right, largest = 0;
        double apart = 0;
        if (!ft__is_weight(n) && n->op != FT__OP_state) continue;
        count = ft__node_count_at(n, extent);
        left = (float *)malloc(count * sizeof *left);
        right = (float *)malloc(count * sizeof *right);
        ft_get(a, node, left, count);
        ft_get(b, node, right, count);
        for (k = 0; k < count; ++k) {
            if (fabsf(left[k]) > largest) largest = fabsf(left[k]);
            apart = worse(apart, (double)fabsf(left[k] - right[k]));
        }
        CHECK(most > 0 ? apart <= (double)(most * largest + 1e-7f)
              : memcmp(left, right, count * sizeof *left) == 0, "%s, three steps: %s is %g apart of %g", network,
              n->name, apart, (double)largest);
        free(left);
        free(right);
    }
}

/* The outputs of a run for evaluation, where batch norms are folded; returns how many. */
static size_t evaluate(ft_model *m, const lesson *l, float *values)
{
    int batch = feed(m, l, 1);
    size_t count = (size_t)(l->kind == STREAMS ? batch * LONGEST * WORDS : 5 * batch);
    ft_forward(m, false);
    ft_get(m, ft_output(m), values, count);
    return count;
}

static void test_steps(lesson l)
{
    static float values[2][BATCH * LONGEST * WORDS];
    float here[3], there[3], again[3];
    ft_model *processor, *device, *second;
    size_t count, k;
    int i;
    if (l.kind == PICTURES) l.options.image_size = 32;
    if (l.kind == PICTURES) l.options.width = 0.25f;
    if (l.kind != PICTURES) l.options.words = WORDS;
    if (l.kind != STREAMS) l.options.classes = 5;
    processor = untrained("cpu", &l);
    device = untrained("opencl:0:0", &l);
    train_both(processor, device, &l, here, there);
    CHECK(!was_said("runs on the CPU"), "%s leaves the device: %s", l.network, lines[1]);
    for (i = 0; i < 3; ++i)
        CHECK(CLOSE(here[i], there[i], 1e-4), "%s, step %d: loss %g, not %g", l.network, i,
              (double)there[i], (double)here[i]);
    compare_weights(l.network, processor, device, 1e-3f);
    second = train("opencl:0:0", &l, again);
    CHECK(!memcmp(there, again, sizeof there), "%s: other bits when run by ft_forward",
          l.network);
    compare_weights(l.network, device, second, 0);
    count = evaluate(processor, &l, values[0]);
    evaluate(device, &l, values[1]);
    for (k = 0; k < count; ++k)
        CHECK(CLOSE(values[0][k], values[1][k], 1e-3), "%s, output %zu: %g, not %g", l.network, k,
              (double)values[1][k], (double)values[0][k]);
    CHECK(ft_error(device) == FT_OK, "%s: %s", l.network, ft_error_text(device));
    ft_destroy(processor);
    ft_destroy(device);
    ft_destroy(second);
}

static void test_networks(void)
{
    /* with the usual eps Adam makes whole steps of gradients that are nothing but rounding */
    ft_optimizer_options adam = {.weight_decay = 0.01f, .clip_norm = 0.5f, .eps = 1e-2f};
    ft_optimizer_options sgd = {.optimizer = FT_SGD, .momentum = 0.9f, .nesterov = true,
                                .clip_norm = 0.5f};
    test_steps((lesson){"resnet20", PICTURES, sgd, NULL, {0}});
    test_steps((lesson){"mobilenet_v1", PICTURES, sgd, NULL, {0}});
    test_steps((lesson){"keras_cnn", PICTURES, adam, NULL, {0}});
    test_steps((lesson){"resnet20", PICTURES, adam, "conv*,bn*,layer[12]*", {0}});
    test_steps((lesson){"lstm_classifier", TEXTS, adam, NULL, {.embedding = 7, .hidden = 17,
        .layers = 2, .bidirectional = true, .dropout = 0.3f}});
    test_steps((lesson){"gru_classifier", TEXTS, sgd, NULL, {.embedding = 16, .hidden = 16,
        .pooling = FT_POOL_MAX}});
    test_steps((lesson){"lstm_lm", STREAMS, sgd, NULL, {.embedding = 12, .tied = true}});
    test_steps((lesson){"char_rnn", STREAMS, adam, NULL, {.embedding = 9, .hidden = 20}});
    test_steps((lesson){"char_rnn", STREAMS, adam, "embedding*,lstm.*l0", {.hidden = 20}});
}

/* ---- Work beside the steps: batches that go up and news that come down while a step runs. Forced
   here, for on a processor's own device it gains nothing; a fit must not show it. ---- */

enum { SIDE = 6, SAMPLES = 36, FIT_CLASSES = 3, MOST_REPORTS = 64 };

typedef struct fit_run {
    ft_progress reports[MOST_REPORTS];
    int count;
    int stop_at;            /* the report at which it is stopped, or, negative, killed; 0: not */
    float weights[FIT_CLASSES * 4 + 4 * 3 * 9 + 8];
    ft_status status;
    char text[300];
    ft_fit_result result;
} fit_run;

static bool keep_report(void *user, const ft_progress *p)
{
    fit_run *run = (fit_run *)user;
    if (p->preparing) return true;
    if (run->count < MOST_REPORTS) run->reports[run->count++] = *p;
    if (run->count == -run->stop_at) raise(SIGKILL);
    return run->count != run->stop_at;
}

static void fit_network(ft_model *m)
{
    ft_input_options picture = {.size = {3, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}, .no_bias = true};
    ft_node x = ft_input(m, "input", picture), y = ft_input(m, "labels", label);
    if (briefly) {
        x = ft_flatten(m, "flat", ft_global_avg_pool(m, "pool", x));
        x = ft_linear(m, "fc", x, FIT_CLASSES,
                      (ft_linear_options){.no_bias = true});
        ft_set_output(m, x);
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, (ft_loss_options){0}));
        return;
    }
    x = ft_batch_norm(m, "norm", ft_conv2d(m, "conv", x, 4, conv), (ft_batch_norm_options){0});
    x = ft_activation(m, "softplus", "soft", x, (ft_activation_options){0});
    x = ft_linear(m, "fc", ft_flatten(m, "flat", ft_global_avg_pool(m, "pool", x)), FIT_CLASSES,
                  (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, (ft_loss_options){0}));
}

static void fit_weights(ft_model *m, float *to)
{
    static const struct { const char *name; size_t count; } parts[] = {
        {"fc.weight", FIT_CLASSES * 4}, {"conv.weight", 4 * 3 * 9}, {"norm.weight", 4},
        {"norm.running_var", 4}};
    size_t i;
    if (briefly) ft_get(m, ft_find(m, "fc.weight"), to, FIT_CLASSES * 3);
    for (i = 0; i < 4 && !briefly; to += parts[i++].count)
        ft_get(m, ft_find(m, parts[i].name), to, parts[i].count);
}

enum { PLAIN, BESIDE, ON_PROCESSOR };

static void fit_once(fit_run *run, int how, const char *freeze, ft_fit_options options)
{
    static float x[SAMPLES * 3 * SIDE * SIDE];
    static int32_t y[SAMPLES];
    unsigned state = 21;
    int i, stop = run->stop_at;
    ft_model *m = on(how == ON_PROCESSOR ? "cpu" : "opencl:0:0");
    const ft__device *d = m->context.device;
    memset(run, 0, sizeof *run);
    run->stop_at = stop;
    if (m->context.device) m->context.device->overlaps = how == BESIDE;
    if (briefly) m->context.device->unchecked = true;
    for (i = 0; i < SAMPLES * 3 * SIDE * SIDE; ++i) x[i] = (float)random_value(&state);
    for (i = 0; i < SAMPLES; ++i) y[i] = i % FIT_CLASSES;
    fit_network(m);
    if (freeze) ft_freeze(m, freeze);
    options.batch_size = 8;
    options.progress = keep_report;
    options.progress_user = run;
    run->result = ft_fit(m, ft_arrays(m, SAMPLES, x, y, (ft_array_options){.classes = FIT_CLASSES}),
                         options);
    run->status = ft_error(m);
    snprintf(run->text, sizeof run->text, "%.299s", ft_error_text(m));
    if (how == BESIDE) CHECK(d->second && d->news_mapped && d->uploads[0].bytes > 0
                             && d->uploads[1].bytes > 0, "nothing went up beside the steps");
    if (how == PLAIN) CHECK(!d->second && !d->news_mapped, "a processor's device does not wait");
    ft_clear_error(m);
    fit_weights(m, run->weights);
    ft_destroy(m);
}

/* The same reports in the same order, the same end, the same weights: equal bits, or, against the
   processor, equal but for rounding. */
static void compare_fits(const char *what, const fit_run *a, const fit_run *b, double most)
{
    size_t k;
    int i;
    CHECK(a->count == b->count, "%s: %d reports, not %d", what, b->count, a->count);
    for (i = 0; i < a->count && i < b->count; ++i) {
        const ft_progress *p = &a->reports[i], *q = &b->reports[i];
        CHECK(p->epoch == q->epoch && p->step == q->step && p->batch == q->batch
              && p->epoch_done == q->epoch_done && p->learning_rate == q->learning_rate
              && p->accuracy == q->accuracy && CLOSE(p->loss, q->loss, most),
              "%s, report %d: epoch %d step %d batch %d loss %.9g accuracy %g, not epoch %d step %d "
              "batch %d loss %.9g accuracy %g", what, i, q->epoch, q->step, q->batch, q->loss,
              q->accuracy, p->epoch, p->step, p->batch, p->loss, p->accuracy);
    }
    CHECK(a->status == b->status && !strcmp(a->text, b->text), "%s: \"%s\", not \"%s\"", what,
          b->text, a->text);
    CHECK(CLOSE(a->result.loss, b->result.loss, most)
          && a->result.accuracy == b->result.accuracy && a->result.epochs == b->result.epochs
          && a->result.stopped == b->result.stopped, "%s: another result", what);
    for (k = 0; k < sizeof a->weights / sizeof a->weights[0]; ++k)
        if (!CLOSE(a->weights[k], b->weights[k], 10 * most)) break;
    CHECK(k == sizeof a->weights / sizeof a->weights[0], "%s: weight %zu is %.9g, not %.9g", what,
          k, (double)b->weights[k], (double)a->weights[k]);
}

static void test_beside_steps(void)
{
    ft_optimizer_options sgd = {.optimizer = FT_SGD, .learning_rate = 0.1f, .momentum = 0.9f,
                                .clip_norm = 0.3f};
    ft_optimizer_options adam = {.learning_rate = 1e-2f, .eps = 1e-2f, .clip_norm = 0.05f};
    const ft_fit_options runs[] = {
        {.epochs = 3, .optimizer = sgd}, {.epochs = 2, .optimizer = adam, .hold_back = 0.25f},
        /* the outputs of the frozen layers come from memory */
        {.epochs = 3, .optimizer = sgd},
        {.epochs = 2, .optimizer = adam, .accumulate = 3},
        {.epochs = 2, .optimizer = sgd, .ema = 0.8f, .hold_back = 0.25f},
        /* the second epoch's rate is such that a loss is not finite: back to the first's weights */
        {.epochs = 3, .optimizer = {.optimizer = FT_SGD, .learning_rate = 0.1f},
         .schedule = FT_STEP, .step_epochs = 1, .gamma = 1e30f}};
    static const char *const names[] = {"a fit", "held back", "a head", "batches that add up", "an average",
                                        "a loss not finite"};
    static fit_run processor, plain, beside;
    int i;
    for (i = 0; i < 6; ++i) {
        const char *freeze = i == 2 ? "conv*,norm*" : NULL;
        processor.stop_at = plain.stop_at = beside.stop_at = 0;
        fit_once(&processor, ON_PROCESSOR, freeze, runs[i]);
        fit_once(&plain, PLAIN, freeze, runs[i]);
        fit_once(&beside, BESIDE, freeze, runs[i]);
        CHECK(i == 5 ? processor.status == FT_NOT_FINITE : processor.status == FT_OK, "%s: %s",
              names[i], processor.text);
        CHECK(processor.count > 4, "%s: %d reports", names[i], processor.count);
        compare_fits(names[i], &processor, &plain, 1e-5);
        compare_fits(names[i], &plain, &beside, 0);
    }
}

/* One epoch of the same, under the simulator. */
static void test_beside_briefly(void)
{
    static fit_run plain, beside;
    ft_fit_options once = {.epochs = 1, .optimizer = {.optimizer = FT_SGD, .clip_norm = 0.3f}};
    fit_once(&plain, PLAIN, NULL, once);
    fit_once(&beside, BESIDE, NULL, once);
    CHECK(plain.status == FT_OK && plain.count == 6, "%d reports: %s", plain.count, plain.text);
    compare_fits("under the simulator", &plain, &beside, 0);
}

/* Three updates by each optimiser of a matrix, a kernel and a vector, with a rate and a decay of its
   own for one, and clipped in the second step: as on the processor. */
static void update_all(ft_optimizer_options o)
{
    static const struct { const char *name; int size[4]; } parts[] = {
        {"matrix", {19, 7}}, {"kernel", {3, 2, 4, 3}}, {"vector", {33}}};
    ft_model *m[2];
    int step, i, which;
    for (which = 0; which < 2; ++which) {
        m[which] = on(which ? "opencl:0:0" : "cpu");
        for (i = 0; i < 3; ++i) {
            ft_parameter_options p = {0};
            memcpy(p.size, parts[i].size, sizeof parts[i].size);
            ft_parameter(m[which], parts[i].name, p);
        }
        ft_scale_learning_rate(m[which], "kernel", 0.5f);
        ft_set_weight_decay(m[which], "kernel", 0);
        ft_set_optimizer(m[which], o);
        ft__plan_leaves(m[which], ft__one, true);
        for (step = 0; step < 3; ++step) {
            unsigned state = 5 + (unsigned)step;
            for (i = 0; i < 3; ++i) {
                ft__node *node = &m[which]->nodes[i];
                size_t count = ft__node_count_at(node, ft__one), k;
                for (k = 0; k < count; ++k)
                    node->gradient[k] = (float)random_value(&state) * (step == 1 ? 0.02f : 0.3f);
                ft__host_wrote(&m[which]->context, node->gradient);
            }
            ft__optimizer_step(m[which], 0.05f);
        }
        CHECK(ft_error(m[which]) == FT_OK, "optimizer %d: %s", o.optimizer, ft_error_text(m[which]));
    }
    compare_weights(ft__optimizers[o.optimizer].name, m[0], m[1], 1e-5f);
    for (i = 0; i < 3; ++i) {
        float zeros[19 * 7], gradient[19 * 7];
        size_t count = ft__node_count_at(&m[1]->nodes[i], ft__one);
        memset(zeros, 0, sizeof zeros);
        from_device(&m[1]->context, gradient, m[1]->nodes[i].gradient, count);
        CHECK(!memcmp(gradient, zeros, count * sizeof *zeros), "optimizer %d: gradients are left",
              o.optimizer);
    }
    ft_destroy(m[0]);
    ft_destroy(m[1]);
}

static void test_updates(void)
{
    int i;
    for (i = 0; i < FT__OPTIMIZERS; ++i)
        update_all((ft_optimizer_options){.optimizer = (ft_optimizer)i, .weight_decay = 0.1f,
                                          .clip_norm = 1.5f});
    update_all((ft_optimizer_options){.optimizer = FT_RMSPROP, .momentum = 0.9f, .clip_norm = 1.5f});
    update_all((ft_optimizer_options){.optimizer = FT_SGD, .momentum = 0.9f, .nesterov = true});
}

/* A gradient that is not finite under a loss that is: nothing moves, and the next step is right. */
static void test_wrong_gradient(void)
{
    const float large[] = {3e38f, 3e38f, 3e38f, 3e38f}, small[] = {1, -1, 2, 0.5f};
    const float first = 1e-38f, other = 0.1f, second[] = {10, -10};
    const int32_t y[] = {1, 1, 1, 1};
    float weights[3][2], one;
    int i;
    for (i = 0; i < 3; ++i) {
        ft_model *m = on(i < 2 ? "opencl:0:0" : "cpu");
        ft_input_options number = {.size = {1}}, label = {.type = FT_I32};
        ft_linear_options plain = {.no_bias = true};
        ft_optimizer_options sgd = {.optimizer = FT_SGD, .clip_norm = 1};
        ft_node x = ft_input(m, "input", number), labels = ft_input(m, "labels", label), h;
        if (i == 1) m->context.device->overlaps = true;
        h = ft_linear(m, "second", ft_linear(m, "first", x, 1, plain), 2, plain);
        ft_set_output(m, h);
        ft_set_loss(m, ft_cross_entropy(m, "loss", h, labels, (ft_loss_options){0}));
        ft_set(m, ft_find(m, "first.weight"), &first, 1);
        ft_set(m, ft_find(m, "second.weight"), second, 2);
        ft_set_optimizer(m, sgd);
        ft_feed(m, x, large, 4);
        ft_feed(m, labels, y, 4);
        CHECK(ft_forward(m, true) > 10 && ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_backward(m);
        CHECK(ft_update(m, 1e-3f) == FT_NOT_FINITE
              && strstr(ft_error_text(m), "step 1: the gradients"), "%s", ft_error_text(m));
        ft_clear_error(m);
        ft_get(m, ft_find(m, "first.weight"), &one, 1);
        ft_get(m, ft_find(m, "second.weight"), weights[i], 2);
        CHECK(one == first && !memcmp(weights[i], second, sizeof second), "a weight moved");
        ft_feed(m, x, small, 4);
        ft_feed(m, labels, y, 4);
        ft_set(m, ft_find(m, "first.weight"), &other, 1);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.1f);
        CHECK(ft_error(m) == FT_OK, "after a gradient that was not finite: %s", ft_error_text(m));
        ft_get(m, ft_find(m, "second.weight"), weights[i], 2);
        ft_destroy(m);
    }
    CHECK(!memcmp(weights[0], weights[1], sizeof second), "other bits beside the steps");
    for (i = 0; i < 2; ++i)
        CHECK(CLOSE(weights[0][i], weights[2][i], 1e-5) && fabsf(weights[0][i] - second[i]) > 1e-4f,
              "weight %g, not %g", (double)weights[0][i], (double)weights[2][i]);
}

/* ---- The check: a kernel made wrong is found out, and the processor takes its place ---- */

/* kernels.cl with one text in place of another, in a file of its own. */
static bool write_kernels(const char *path, const char *from, const char *to)
{
    FILE *file = fopen("kernels.cl", "rb");
    static char text[200000];
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    char *at;
    if (file) fclose(file);
    text[size] = 0;
    at = strstr(text, from);
    file = at ? fopen(path, "wb") : NULL;
    if (!file) return false;
    fwrite(text, 1, (size_t)(at - text), file);
    fputs(to, file);
    fputs(at + strlen(from), file);
    fclose(file);
    return true;
}

static ft_model *on_kernels(const char *path)
{
    ft_desc desc = {.threads = 2, .device = "opencl:0:0", .log = keep_line, .seed = 4,
                    .kernels_path = path};
    memset(lines, 0, sizeof lines);
    return ft_create(desc);
}

/* A network of one convolution, with something fed. */
static void small_network(ft_model *m)
{
    ft_input_options picture = {.size = {3, 6, 5}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_linear_options none = {0};
    ft_activation_options plain = {0};
    ft_loss_options loss = {0};
    float x[2 * 3 * 6 * 5];
    int32_t y[2] = {1, 0};
    unsigned state = 3;
    size_t i;
    ft_node in = ft_input(m, "input", picture), labels = ft_input(m, "labels", label), h;
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)random_value(&state);
    h = ft_conv2d(m, "conv", in, 4, conv);
    h = ft_activation(m, "softplus", "soft", h, plain);
    h = ft_linear(m, "fc", ft_flatten(m, "flat", h), 3, none);
    ft_set_output(m, h);
    ft_set_loss(m, ft_cross_entropy(m, "loss", h, labels, loss));
    ft_feed(m, in, x, 2);
    ft_feed(m, labels, y, 2);
}

/* The same over texts: more words than the embedding's gradient sums at once. */
static void small_text_network(ft_model *m)
{
    enum { STEPS = 40, V = 18 };
    ft_input_options steps = {.type = FT_I32, .size = {FT_LENGTH}}, each = {.type = FT_I32};
    ft_node tokens = ft_input(m, "tokens", steps), lengths = ft_input(m, "lengths", each), h;
    ft_node labels = ft_input(m, "labels", each);
    ft_recurrent_options layer = {.lengths = lengths};
    ft_step_pool_options mean = {.kind = FT_POOL_MEAN};
    ft_embedding_options padding = {.padded = true};
    ft_linear_options none = {0};
    ft_loss_options loss = {0};
    int32_t ids[2 * STEPS], real[2] = {STEPS, STEPS - 9}, y[2] = {1, 0};
    int i;
    for (i = 0; i < 2 * STEPS; ++i) ids[i] = i * i % V;
    h = ft_embedding(m, "words", tokens, V, 6, padding);
    h = ft_gru(m, "gru", ft_lstm(m, "lstm", h, 5, layer), 4, layer);
    h = ft_linear(m, "fc", ft_step_pool(m, "pool", h, lengths, mean), 3, none);
    ft_set_output(m, h);
    ft_set_loss(m, ft_cross_entropy(m, "loss", h, labels, loss));
    ft_set_length(m, STEPS);
    ft_feed(m, tokens, ids, 2);
    ft_feed(m, lengths, real, 2);
    ft_feed(m, labels, y, 2);
}

static void small_step(ft_model *m, bool text, float *gradient)
{
    if (text) small_text_network(m);
    else small_network(m);
    ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, ft_find(m, text ? "words.weight" : "conv.weight"), gradient, 108);
    CHECK(ft_error(m) == FT_OK, "a small step: %s", ft_error_text(m));
}

/* A wrong kernel of a loss is found on the operator's sample, whose labels are classes. */
static void test_wrong_losses(void)
{
    static const struct { const char *from, *to; int op; } wrong[] = {
        {"return -power * log_p;", "return -2.0f * power * log_p;", FT__OP_focal},
        {"return sum / (float)classes;", "return 2.0f * sum / (float)classes;", FT__OP_hinge}};
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        ft__sample_call s;
        ft_model *m;
        if (!write_kernels("build/wrong.cl", wrong[i].from, wrong[i].to)) {
            CHECK(false, "kernels.cl has no \"%s\"", wrong[i].from);
            continue;
        }
        m = on_kernels("build/wrong.cl");
        if (ft__sample_read(&s, &m->context, wrong[i].op, ft__device_rows[wrong[i].op]->sample))
            CHECK(ft__verdict_of(&s.call)->form == FT__FORM_PROCESSOR, "\"%s\" was not noticed",
                  wrong[i].to);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

static void test_wrong_kernels(void)
{
    static const struct { const char *from, *to, *word; bool text; } wrong[] = {
        {"X(softplus, softplus(x), sigmoid(x))", "X(softplus, softplus(x), 0.9f * sigmoid(x))",
         "softplus (soft) runs on the CPU", false},
        {"X(softplus, softplus(x), sigmoid(x))", "X(softplus, NAN, sigmoid(x))",
         "softplus (soft) runs on the CPU", false},
        {"s5 += from[5][c] * w;", "s5 -= from[5][c] * w;", "conv2d (conv): variant 2", false},
        {"dx[i] += scale * (p[i] - smoothing / (float)classes", "dx[i] += scale * (p[i] - 0.01f",
         "cross_entropy (loss) runs on the CPU", false},
        {"sum += x[at + row * n + i];", "sum += x[i];", "conv2d (conv) runs on the CPU",
         false},
        {"sum += dy[at * each + i % each]", "sum = dy[at * each + i % each]",
         "embedding (words) runs on the CPU", true},
        {"sum += sums[at * each + i % each]", "sum = sums[at * each + i % each]",
         "embedding (words) runs on the CPU", true},
        {"v / (float)real : v;", "v / (float)p.steps : v;", "step_pool (pool) runs on the CPU",
         true},
        {"state = x[3] * tanh(extra);", "state = x[3] * extra;", "lstm (lstm) runs on the CPU",
         true},
        {"dc *= x[1];", "dc *= x[0];", "lstm (lstm) runs on the CPU", true},
        {"r->t < lengths[sample];", "r->t <= lengths[sample];", "lstm (lstm) runs on the CPU",
         true},
        {"gate[2 * r.h] * x[0];", "gate[2 * r.h];", "gru (gru) runs on the CPU", true},
    };
    float want[2][108], got[108];
    size_t i, k;
    ft_model *m;
    for (i = 0; i < 2; ++i) {
        m = on("cpu");
        small_step(m, i, want[i]);
        ft_destroy(m);
    }
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        if (!write_kernels("build/wrong.cl", wrong[i].from, wrong[i].to)) {
            CHECK(false, "kernels.cl has no \"%s\"", wrong[i].from);
            continue;
        }
        m = on_kernels("build/wrong.cl");
        small_step(m, wrong[i].text, got);
        CHECK(was_said(wrong[i].word), "\"%s\" was not noticed", wrong[i].to);
        for (k = 0; k < 108; ++k)
            if (!CLOSE(got[k], want[wrong[i].text][k], 1e-5)) break;
        CHECK(k == 108, "\"%s\" spoils gradient %zu: %g", wrong[i].to, k, (double)got[k]);
        ft_destroy(m);
    }
    remove("build/wrong.cl");
}

/* Why an operator runs on the processor is told once, and truly. */
static void test_reasons(void)
{
    static const struct { const char *from, *to, *why; } kernels[] = {
        {"X(softplus, softplus(x), sigmoid(x))", "X(softplus, softplus(x), 0.9f * sigmoid(x))",
         "softplus (soft) runs on the CPU: its kernels give wrong results here"},
        {"int", "int", NULL}};
    const float weights[2] = {1, 3};
    float got[108];
    size_t i;
    ft_model *m;
    for (i = 0; i < 2 && write_kernels("build/wrong.cl", kernels[i].from, kernels[i].to); ++i) {
        m = on_kernels("build/wrong.cl");
        small_step(m, false, got);
        if (kernels[i].why) CHECK(was_said(kernels[i].why), "not said: %s", kernels[i].why);
        else CHECK(!was_said("runs on the CPU"), "an operator left the device");
        memset(lines, 0, sizeof lines);
        CHECK(ft_feed_weights(m, weights, 2) == FT_OK, "%s", ft_error_text(m));
        ft_forward(m, true);
        CHECK(was_said("cross_entropy (loss) runs on the CPU: its kernels do not take weights of"
                       " samples or classes"), "a weighted loss: \"%s\"", lines[0]);
        ft_destroy(m);
    }
    CHECK(i == 2, "kernels.cl was not written");
    remove("build/wrong.cl");
}

/* A checkpoint's choices are those of its device: of another one the log says so, by name. */
static void test_other_device(const char *written_on, const char *said)
{
    ft_model *m = on("opencl:0:0");
    char text[300];
    ft__json *json;
    snprintf(text, sizeof text, written_on ? "{\"device\":\"%s\",\"choices\":[]}" : "{}",
             written_on ? written_on : "");
    json = ft__json_parse(&m->context, text, strlen(text));
    memset(lines, 0, sizeof lines);
    CHECK(json != NULL, "%s", ft_error_text(m));
    if (json) ft__device_read_choices(&m->context, json, "a.checkpoint");
    CHECK(said ? was_said(said) : !was_said("its last bits will differ"), "\"%s\", not \"%s\"",
          lines[0], said ? said : "");
    ft__json_free(&m->context, json);
    ft_destroy(m);
}

static void test_other_devices(void)
{
    ft_model *m = on("opencl:0:0");
    char same[128];
    snprintf(same, sizeof same, "%s", m->context.device->name);
    ft_destroy(m);
    test_other_device(same, NULL);
    test_other_device("a fast GPU", "a.checkpoint was written on a fast GPU: the run continues, but");
    test_other_device(NULL, "a.checkpoint was written on the CPU: the run continues, but");
}

/* ---- Memory: a budget covers what the device holds ---- */

typedef struct within { float losses[2]; ft_status status; size_t peak, device, planned; int left; }
    within;

static within train_within(size_t budget)
{
    ft_desc desc = {.threads = 2, .device = "opencl:0:0", .seed = 4, .memory_budget = budget,
                    .cache = getenv("TEST_CACHE")};
    ft_network_options options = {.classes = 5, .image_size = 32, .width = 0.25f};
    static float x[16 * 3 * 32 * 32];
    const int32_t y[16] = {0, 3, 4, 1, 2, 2, 1, 0, 4, 3, 0, 1, 2, 3, 4, 0};
    ft_model *m = ft_create(desc);
    unsigned state = 11;
    within w;
    int i;
    memset(&w, 0, sizeof w);
    for (i = 0; i < 16 * 3 * 32 * 32; ++i) x[i] = (float)random_value(&state);
    ft_network(m, "resnet20", options);
    ft_set_optimizer(m, (ft_optimizer_options){0});
    if (!budget) w.planned = ft_plan(m, 16, true).device;
    for (i = 0; i < 2; ++i) {
        ft_feed(m, ft_find(m, "input"), x, 16);
        ft_feed(m, ft_find(m, "labels"), y, 16);
        w.losses[i] = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    w.status = ft_error(m);
    w.peak = m->context.bytes_peak;
    w.device = m->context.device ? m->context.device->bytes : 0;
    for (i = 0; m->context.device && i < m->context.device->verdict_count; ++i)
        w.left += m->context.device->verdicts[i].form == FT__FORM_PROCESSOR;
    if (w.status) CHECK(w.status == FT_MEMORY && strstr(ft_error_text(m), "budget"), "%s",
                        ft_error_text(m));
    ft_clear_error(m);
    ft_destroy(m);
    return w;
}

static void test_budget(void)
{
    within whole = train_within(0), w;
    int part, kept = 0, refused = 0;
    CHECK(whole.status == FT_OK && whole.left == 0, "without a budget: %d", (int)whole.status);
    CHECK(fabs((double)whole.planned - (double)whole.device) <= 0.05 * (double)whole.device,
          "ft_plan told %zu bytes on the device, there are %zu", whole.planned, whole.device);
    for (part = 20; part >= 6; part -= 2) {
        size_t budget = whole.peak / 16 * (size_t)part;
        w = train_within(budget);
        CHECK(w.peak <= budget, "a budget of %zu, but %zu were taken", budget, w.peak);
        kept += w.status == FT_OK;
        refused += w.status != FT_OK;
        if (w.status == FT_OK)
            CHECK(!memcmp(w.losses, whole.losses, sizeof w.losses) && w.left == 0,
                  "a budget of %d/16: losses %g %g, not %g %g; %d operators left the device", part,
                  (double)w.losses[0], (double)w.losses[1], (double)whole.losses[0],
                  (double)whole.losses[1], w.left);
    }
    CHECK(kept >= 2 && refused >= 1, "%d budgets kept, %d refused", kept, refused);
}

/* ---- A run that is killed and one that is stopped go on to the same bits ---- */

static const char checkpoint_path[] = "build/opencl.checkpoint";

/* This program again: a fit that is killed at its report number `at`. */
static void fit_killed(const char *self, int at)
{
    char number[16];
    pid_t child;
    int status = 0;
    snprintf(number, sizeof number, "%d", at);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        execl(self, self, "--killed", number, (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it was not killed: status %d",
          status);
}

static ft_fit_options checkpointed(bool writes)
{
    ft_fit_options options = {.epochs = 3, .checkpoint_steps = writes ? 2 : 0,
                              .optimizer = {.optimizer = FT_SGD, .learning_rate = 0.1f,
                                            .momentum = 0.9f, .clip_norm = 0.3f}};
    if (writes) options.checkpoint = checkpoint_path;
    return options;
}

static void test_resumed(const char *self)
{
    static fit_run whole, rest;
    int at;
    whole.stop_at = rest.stop_at = 0;
    fit_once(&whole, BESIDE, NULL, checkpointed(false));
    for (at = 2; at < 15; at += 4) {
        remove(checkpoint_path);
        fit_killed(self, at);
        fit_once(&rest, BESIDE, NULL, checkpointed(true));
        CHECK(!memcmp(whole.weights, rest.weights, sizeof whole.weights)
              && whole.result.loss == rest.result.loss, "killed at report %d: other bits", at);
    }
    for (at = 3; at < 10; at += 6) {
        remove(checkpoint_path);
        rest.stop_at = at;
        fit_once(&rest, BESIDE, NULL, checkpointed(true));
        CHECK(rest.result.stopped && rest.count == at, "stopped at %d: %d reports", at, rest.count);
        rest.stop_at = 0;
        fit_once(&rest, PLAIN, NULL, checkpointed(true));
        CHECK(!memcmp(whole.weights, rest.weights, sizeof whole.weights)
              && whole.result.loss == rest.result.loss, "stopped at report %d: other bits", at);
    }
    remove(checkpoint_path);
}

static int be_killed(int at)
{
    static fit_run run;
    run.stop_at = -at;
    fit_once(&run, BESIDE, NULL, checkpointed(true));
    return 1;
}

static void open_device(void) { ft_destroy(on("opencl:0:0")); }

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    bool fits_only = !strcmp(what, "--fits");
    ft_model *m;
    if (called_operators(words[0])) return operators_main(count, words);
    if (!strcmp(what, "--killed") && count > 2) return be_killed(atoi(words[2]));
    if (!check_survives(open_device)) {
        SKIP("the OpenCL driver ends the process here");
        return check_done("test_opencl");
    }
    m = on("opencl:0:0");
    if (ft_error(m) == FT_UNSUPPORTED) {
        SKIP(ft_error_text(m));
        ft_destroy(m);
        return check_done("test_opencl");
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    if (!strcmp(what, "--brief")) {
        test_briefly(m, count > 2 ? words[2] : NULL, count > 3 ? atoi(words[3]) : -1);
        if (count == 2) test_beside_briefly();
    }
    else if (ft_error(m) == FT_OK && !fits_only) {
        if (count > 1) only_op = words[1];
        if (count > 2) only_case = atoi(words[2]);
        test_forms(m);
    }
    if (count == 1 || fits_only) {
        test_networks();
        test_wrong_kernels();
        test_wrong_losses();
        test_reasons();
        test_other_devices();
        test_beside_steps();
        test_updates();
        test_wrong_gradient();
        test_budget();
        test_resumed(words[0]);
    }
    ft_destroy(m);
    return check_done("test_opencl");
}

#else

int main(int count, char **words)
{
    if (called_operators(words[0])) return operators_main(count, words);
    SKIP("built without OpenCL's headers");
    return check_done("test_opencl");
}

#endif
