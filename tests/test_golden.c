/* test_golden.c - the same results as PyTorch: every operator, every optimiser over ten steps,
   schedules, a CNN, two ResNets and recurrent networks, at each SIMD level, against files that
   tests/golden/make_goldens.py, make_more_operators.py and make_cases.py made with PyTorch.
       build/test_golden [CASE]       runs one operator's case only */
#include "check.h"
#include "formula.h"

#include "internals.h"
#include "layout.h"
#include "goldens.h"

static const double of_operator = 1e-5, of_network = 1e-4, of_ten_steps = 1e-3;

/* ---- Golden files ---- */

static int find(ft_file *file, const char *prefix, const char *name)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return ft_file_find(file, whole);
}

/* A tensor as floats (labels as int32 bits); freed by the caller. NULL: not in the file. */
static float *read_golden(ft_file *file, const char *prefix, const char *name, size_t *count)
{
    int index = find(file, prefix, name);
    ft_tensor_info info = ft_file_tensor(file, index);
    float *values;
    if (index < 0) return NULL;
    *count = ft__shape_count(&info.shape);
    values = (float *)calloc(*count + 1, sizeof *values);
    if (info.type == FT_F32) ft_file_read_f32(file, index, values, *count);
    else ft_file_read(file, index, values, *count * 4);
    return values;
}

/* What a golden file says of its cases; freed by the caller. */
static ft__json *cases_of(ft_model *m, ft_file *file)
{
    const char *text = ft_file_metadata(file, "cases");
    return ft__json_parse(&m->context, text, strlen(text));
}

/* max |got - want| <= tolerance * max |want|, NaN never */
static void compare(const char *what, const char *which, const float *got, const float *want,
                    size_t count, double tolerance)
{
    double largest = 0, worst = 0;
    size_t i, at = 0;
    bool fine = true;
    for (i = 0; i < count; ++i)
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    for (i = 0; i < count; ++i) {
        double difference = fabs((double)got[i] - (double)want[i]);
        if (!(difference <= tolerance * largest + 1e-30)) fine = false;
        if (!(difference <= worst)) {
            worst = difference;
            at = i;
        }
    }
    CHECK(fine, "%s %s: element %zu is %.9g, PyTorch has %.9g; off by %.2g of the largest, %g"
          " (again: build/test_golden %s)", what, which, at, (double)got[at], (double)want[at],
          worst / (largest > 0 ? largest : 1), largest, what);
}

/* ---- Operators ---- */

enum { MOST_INPUTS = 12 };

typedef struct operator_case {
    ft_model *m;
    ft_file *file;
    const char *name;
    ft__node node;
    ft__tensor input[MOST_INPUTS];
    ft__call call;
    float *gradients[MOST_INPUTS];
    int input_count;
} operator_case;

static float random_value(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1;
}

/* Whether an operator takes [N, C, H, W] channels-last: else it wants it row by row. */
static bool takes_last(int op)
{
    return ft__rows[op]->flags & (FT__CHANNELS_LAST | FT__ANY_LAYOUT | FT__REORDERS);
}

static const int *order_of(const ft__tensor *t)
{
    return t->channels_last ? channels_last_order : NULL;
}

static void read_inputs(operator_case *c)
{
    char prefix[128], name[16];
    size_t count;
    snprintf(prefix, sizeof prefix, "%s/", c->name);
    for (c->input_count = 0; c->input_count < MOST_INPUTS; ++c->input_count) {
        ft__tensor *t = &c->input[c->input_count];
        ft_tensor_info info;
        snprintf(name, sizeof name, "in%d", c->input_count);
        t->value = read_golden(c->file, prefix, name, &count);
        if (!t->value) break;
        info = ft_file_tensor(c->file, find(c->file, prefix, name));
        t->shape = info.shape;
        t->type = info.type;
        t->channels_last = t->shape.rank == 4 && t->type == FT_F32 && takes_last(c->node.op)
            && !(ft__rows[c->node.op]->flags & FT__CHANNELS_LAST && c->input_count > 0);
        reorder(t->value, &t->shape, order_of(t), true);
    }
}

static void read_options(operator_case *c, const ft__json *json, int options)
{
    const ft__field *field = ft__rows[c->node.op]->fields;
    ft__graph_reader reader;
    memset(&reader, 0, sizeof reader);
    reader.json = (ft__json *)(uintptr_t)json;
    reader.m = c->m;
    reader.path = c->name;
    for (; field->name; ++field) ft__read_field(&reader, options, c->name, field, &c->node.options);
    CHECK(ft_error(c->m) == FT_OK, "%s: %s", c->name, ft_error_text(c->m));
}

static void run_forward(operator_case *c)
{
    ft__context *context = &c->m->context;
    ft__costs costs = {0, 0, 0, 0, 0};
    ft__call *call = &c->call;
    const ft__row *row = ft__rows[c->node.op];
    size_t count, wanted, i;
    char prefix[128];
    float *want;
    bool training = call->training;
    snprintf(prefix, sizeof prefix, "%s/", c->name);
    call->context = context;
    call->node = &c->node;
    call->input = c->input;
    call->input_count = c->input_count;
    row->shape(context, &c->node, c->input, c->input_count, &call->output.shape);
    CHECK(ft_error(c->m) == FT_OK, "%s: %s", c->name, ft_error_text(c->m));
    ft_clear_error(c->m);
    call->training = true; /* room for backward too */
    if (row->costs) row->costs(call, &costs);
    call->training = training;
    call->output.channels_last = call->output.shape.rank == 4 && takes_last(c->node.op);
    call->saved = calloc(costs.saved + 1, 1);
    call->workspace = (float *)calloc(costs.workspace + 1, 1);
    count = ft__count(&call->output);
    call->output.value = (float *)calloc(count, sizeof(float));
    row->forward(call);
    for (i = 0; i < count && row->flags & FT__INTEGERS; ++i)
        call->output.value[i] = (float)ft__integers(&call->output)[i];
    want = read_golden(c->file, prefix, "y", &wanted);
    CHECK(wanted == count, "%s: %zu results, PyTorch has %zu", c->name, count, wanted);
    reorder(want, &call->output.shape, order_of(&call->output), true);
    if (wanted == count) compare(c->name, "y", call->output.value, want, count, of_operator);
    free(want);
}

/* Gradients are filled before: backward must add to them, and to nothing that is not asked for. */
static void run_backward(operator_case *c)
{
    char prefix[128], name[16];
    size_t count, i;
    unsigned state = 99;
    int n;
    snprintf(prefix, sizeof prefix, "%s/", c->name);
    c->call.output.gradient = read_golden(c->file, prefix, "r", &count);
    reorder(c->call.output.gradient, &c->call.output.shape, order_of(&c->call.output), true);
    for (n = 0; n < c->input_count; ++n) {
        snprintf(name, sizeof name, "d%d", n);
        if (find(c->file, prefix, name) < 0) continue;
        count = ft__count(&c->input[n]);
        c->input[n].gradient = (float *)calloc(count, sizeof(float));
        c->gradients[n] = (float *)calloc(count, sizeof(float));
        for (i = 0; i < count; ++i)
            c->input[n].gradient[i] = c->gradients[n][i] = 0.25f * random_value(&state);
    }
    if (ft__rows[c->node.op]->backward) ft__rows[c->node.op]->backward(&c->call);
    for (n = 0; n < c->input_count; ++n) {
        float *want;
        if (!c->gradients[n]) continue;
        snprintf(name, sizeof name, "d%d", n);
        want = read_golden(c->file, prefix, name, &count);
        reorder(want, &c->input[n].shape, order_of(&c->input[n]), true);
        for (i = 0; i < count; ++i) want[i] += c->gradients[n][i];
        compare(c->name, name, c->input[n].gradient, want, count, of_operator);
        free(want);
    }
    for (n = 0; n < c->input_count; ++n) {
        float *want;
        snprintf(name, sizeof name, "after%d", n);
        want = read_golden(c->file, prefix, name, &count);
        if (want) compare(c->name, name, c->input[n].value, want, count, of_operator);
        free(want);
    }
}

static void free_case(operator_case *c)
{
    int n;
    for (n = 0; n < c->input_count; ++n) {
        free(c->input[n].value);
        free(c->input[n].gradient);
        free(c->gradients[n]);
    }
    free(c->call.output.value);
    free(c->call.output.gradient);
    free(c->call.saved);
    free(c->call.workspace);
}

static void test_operator(ft_model *m, ft_file *file, const ft__json *json, int entry,
                          bool *covered)
{
    operator_case c;
    const char *op = ft__json_string(json, ft__json_member(json, entry, "op"));
    memset(&c, 0, sizeof c);
    c.m = m;
    c.file = file;
    c.name = json->values[entry].key;
    for (c.node.op = FT__OP_COUNT - 1; c.node.op > 0; --c.node.op)
        if (op && strcmp(ft__rows[c.node.op]->name, op) == 0) break;
    covered[c.node.op] = true;
    c.node.name = (char *)(uintptr_t)c.name;
    c.call.training = ft__json_true(json, ft__json_member(json, entry, "training"));
    read_options(&c, json, ft__json_member(json, entry, "options"));
    read_inputs(&c);
    run_forward(&c);
    run_backward(&c);
    free_case(&c);
}

static void test_operators_of(ft_model *m, const char *name, const char *only, bool *covered)
{
    ft_file *file = open_golden(m, name);
    ft__json *json = cases_of(m, file);
    int entry;
    for (entry = 1; entry < json->count; entry = json->values[entry].next)
        if (!only || strcmp(only, json->values[entry].key) == 0)
            test_operator(m, file, json, entry, covered);
    ft__json_free(&m->context, json);
    ft_file_close(file);
}

static void test_operators(const char *simd, int threads, const char *only)
{
    bool covered[FT__OP_COUNT] = {false};
    ft_desc desc;
    ft_model *m;
    int op;
    memset(&desc, 0, sizeof desc);
    desc.simd = simd;
    desc.threads = threads;
    m = ft_create(desc);
    test_operators_of(m, "operators", only, covered);
    test_operators_of(m, "more_operators", only, covered);
    test_operators_of(m, "cases", only, covered);
    covered[FT__OP_ctc_loss] = true; /* golden/ctc.safetensors, in test_losses */
    covered[FT__OP_token_counts] = true; /* golden/bag.safetensors, in test_bag_of_words */
    for (op = FT__OP_state + 1; !only && op < FT__OP_COUNT; ++op)
        CHECK(covered[op] || op == FT__OP_dropout || op == FT__OP_custom, "%s: has no golden case", ft__rows[op]->name);
    ft_destroy(m);
}

/* ---- Optimisers and schedules ---- */

static float setting(const ft__json *json, int entry, const char *key, double otherwise)
{
    double value = otherwise;
    ft__json_double(json, ft__json_member(json, entry, key), &value);
    return (float)value;
}

static ft_optimizer_options optimizer_of(const ft__json *json, int entry)
{
    const char *kind = ft__json_string(json, ft__json_member(json, entry, "kind"));
    int betas = ft__json_member(json, entry, "betas"), i = 0;
    double beta = 0;
    ft_optimizer_options o;
    memset(&o, 0, sizeof o);
    while (i < FT__OPTIMIZERS && strcmp(ft__optimizers[i].name, kind) != 0) ++i;
    CHECK(i < FT__OPTIMIZERS, "%s is an optimiser", kind);
    o.optimizer = (ft_optimizer)i;
    o.learning_rate = setting(json, entry, "lr", 0);
    o.momentum = setting(json, entry, "momentum", 0);
    o.weight_decay = setting(json, entry, "weight_decay", 0);
    o.clip_norm = setting(json, entry, "clip", 0);
    o.nesterov = ft__json_true(json, ft__json_member(json, entry, "nesterov"));
    if (o.optimizer == FT_SGD) return o;
    o.eps = setting(json, entry, "eps", 0);
    o.alpha = setting(json, entry, "alpha", 0);
    if (ft__json_double(json, ft__json_element(json, betas, 0), &beta)) o.beta1 = (float)beta;
    if (ft__json_double(json, ft__json_element(json, betas, 1), &beta)) o.beta2 = (float)beta;
    return o;
}

/* Ten steps of the tensor `start` by the gradients g0, g1, ... end as `want`. */
static void test_optimizer(ft_file *file, const ft__json *json, int entry, const char *start_name,
                           char g_name, const char *want_name)
{
    ft_tensor_info info = ft_file_tensor(file, ft_file_find(file, start_name));
    ft_parameter_options options;
    ft_desc desc;
    ft_model *m;
    ft_node p;
    size_t count;
    float *start, *want, *g;
    int step;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    m = ft_create(desc);
    for (step = 0; step < info.shape.rank; ++step) options.size[step] = info.shape.size[step];
    p = ft_parameter(m, "p", options);
    start = read_golden(file, "", start_name, &count);
    ft_set(m, p, start, count);
    ft_set_optimizer(m, optimizer_of(json, entry));
    ft__plan_leaves(m, ft__one, true);
    for (step = 0; step < 10; ++step) {
        char key[8];
        snprintf(key, sizeof key, "%c%d", g_name, step);
        g = read_golden(file, "", key, &count);
        memcpy(m->nodes[p.id - 1].gradient, g, count * sizeof *g);
        free(g);
        ft__optimizer_step(m, optimizer_of(json, entry).learning_rate);
    }
    want = read_golden(file, "", want_name, &count);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare(want_name, "after ten steps", m->nodes[p.id - 1].value, want, count, of_operator);
    free(start);
    free(want);
    ft_destroy(m);
}

typedef struct schedule_case {
    const char *name;
    ft_schedule schedule;
    int size;
    float gamma;
    int warmup;
} schedule_case;

static void test_schedule(ft_file *file, const schedule_case *c)
{
    size_t count;
    float got[20], *want = read_golden(file, "schedule/", c->name, &count);
    int step;
    for (step = 0; step < 20; ++step)
        got[step] = ft_schedule_factor(c->schedule, step, 20, c->size, c->gamma, c->warmup);
    compare("schedule", c->name, got, want, 20, of_operator);
    free(want);
}

static void test_optimizers(void)
{
    static const schedule_case schedules[] = {
        {"constant", FT_CONSTANT, 5, 0.1f, 0}, {"step", FT_STEP, 5, 0.1f, 0},
        {"cosine", FT_COSINE, 5, 0.1f, 0}, {"one_cycle", FT_ONE_CYCLE, 5, 0.1f, 0},
        {"warm_cosine", FT_COSINE, 5, 0.1f, 5}, {"warm_linear", FT_LINEAR, 5, 0.1f, 5}};
    ft_desc desc;
    ft_model *m;
    ft_file *file;
    ft__json *json;
    size_t i;
    int entry;
    memset(&desc, 0, sizeof desc);
    m = ft_create(desc);
    file = open_golden(m, "optimizers");
    json = cases_of(m, file);
    for (entry = 1; entry < json->count; entry = json->values[entry].next)
        test_optimizer(file, json, entry, "p", 'g', json->values[entry].key);
    for (i = 0; i < sizeof schedules / sizeof schedules[0]; ++i) test_schedule(file, &schedules[i]);
    ft__json_free(&m->context, json);
    ft_file_close(file);
    ft_destroy(m);
}

static void test_more_schedules(ft_file *file)
{
    static const schedule_case rows[] = {
        {"warm_restarts", FT_WARM_RESTARTS, 6, 1, 0}, {"growing_restarts", FT_WARM_RESTARTS, 3, 2, 0},
        {"polynomial", FT_POLYNOMIAL, 0, 1, 0}, {"warm_polynomial", FT_POLYNOMIAL, 0, 2.5f, 5},
        {"warm_inverse_sqrt", FT_INVERSE_SQRT, 0, 0, 5}};
    size_t r, count;
    float got[20], *want, *losses = read_golden(file, "schedule/", "losses", &count);
    ft__plateau plateau = {0};
    int step;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) test_schedule(file, &rows[r]);
    for (step = 0; step < 20; ++step) {
        got[step] = (float)ft__power(0.3, (uint64_t)plateau.cuts);
        ft__plateau_step(&plateau, (double)losses[step], 2);
    }
    want = read_golden(file, "schedule/", "plateau", &count);
    compare("schedule", "plateau", got, want, 20, of_operator);
    CHECK(plateau.cuts > 2 && ft_schedule_factor(FT_PLATEAU, 7, 20, 2, 0.3f, 0) == 1, "plateau");
    free(want);
    free(losses);
}

/* A matrix, a kernel and a vector: Adafactor has another state for each. */
static void test_more_optimizers(void)
{
    ft_desc desc = {.threads = 1};
    ft_model *m = ft_create(desc);
    ft_file *file = open_golden(m, "more_optimizers");
    ft__json *json = cases_of(m, file);
    int entry, i;
    for (entry = 1; entry < json->count; entry = json->values[entry].next)
        for (i = 0; i < 3; ++i) {
            char start[2] = {"pkb"[i], 0}, want[64];
            snprintf(want, sizeof want, "%s/%s", json->values[entry].key, start);
            test_optimizer(file, json, entry, start, "ghc"[i], want);
        }
    test_more_schedules(file);
    ft__json_free(&m->context, json);
    ft_file_close(file);
    ft_destroy(m);
}

/* The network of that name, with scikit-learn's weights: TF-IDF from tokens in batches of texts, which are padded, and
   the logits. Of two classes the first has logit 0. */
static void test_bag_network(ft_file *file, const char *key, int classes, const size_t *start, const double *idf)
{
    enum { TEXTS = 60, WORDS = 30, MOST = 200 };
    ft_model *m = ft_create((ft_desc){.threads = 2});
    int rows = classes > 2 ? classes : 1, first = classes - rows, lengths[TEXTS], n, o, k, longest = 0;
    int32_t *word, *tokens = (int32_t *)calloc(TEXTS * MOST, sizeof *tokens);
    float *counts, *weight, *coef, *intercept, w[3 * WORDS] = {0}, b[3] = {0}, got[TEXTS * 3], rarity[WORDS];
    float want[TEXTS * 3];
    size_t count, at;
    word = (int32_t *)(void *)read_golden(file, "", "word", &count);
    counts = read_golden(file, "", "count", &count);
    weight = read_golden(file, "", "weight", &count);
    coef = read_golden(file, key, "coef", &count);
    intercept = read_golden(file, key, "intercept", &count);
    ft_network(m, "bag_of_words", (ft_network_options){.words = WORDS, .classes = classes});
    for (k = 0; k < WORDS; ++k) rarity[k] = (float)idf[k];
    memcpy(w + first * WORDS, coef, (size_t)(rows * WORDS) * sizeof *w);
    memcpy(b + first, intercept, (size_t)rows * sizeof *b);
    ft_set(m, ft_find(m, "idf"), rarity, WORDS);
    ft_set(m, ft_find(m, "fc.weight"), w, (size_t)(classes * WORDS));
    ft_set(m, ft_find(m, "fc.bias"), b, (size_t)classes);
    for (n = 0; n < TEXTS; ++n) { /* a word's tokens are apart: round by round each that is left */
        int round, left = 1;
        lengths[n] = 0;
        for (round = 0; left; ++round)
            for (left = 0, at = start[n]; at < start[n + 1]; ++at)
                if (counts[at] > (float)round) {
                    tokens[n * MOST + lengths[n]++] = word[at];
                    left = 1;
                }
        if (lengths[n] > longest) longest = lengths[n];
        for (o = 0; o < classes; ++o) {
            double sum = (double)b[o];
            for (at = start[n]; at < start[n + 1]; ++at) sum += (double)w[o * WORDS + word[at]] * (double)weight[at];
            want[n * classes + o] = (float)sum;
        }
    }
    for (n = 0; n < TEXTS; ++n)
        for (k = 0; k < longest; ++k) tokens[n * longest + k] = k < lengths[n] ? tokens[n * MOST + k] : k % WORDS;
    CHECK(longest < MOST, "a text of %d words", longest);
    ft_set_length(m, longest);
    ft_feed(m, ft_find(m, "tokens"), tokens, TEXTS);
    ft_feed(m, ft_find(m, "lengths"), lengths, TEXTS);
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, (size_t)(TEXTS * classes));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare("bag of words", "logits", got, want, (size_t)(TEXTS * classes), of_operator);
    tokens[1] = WORDS; /* no such word */
    ft_feed(m, ft_find(m, "tokens"), tokens, 1);
    ft_feed(m, ft_find(m, "lengths"), lengths, 1);
    ft_forward(m, false);
    CHECK(ft_error(m) == FT_NOT_FINITE, "token %d of %d: %s", WORDS, WORDS, ft_error_text(m));
    free(intercept);
    free(coef);
    free(weight);
    free(counts);
    free(word);
    free(tokens);
    ft_destroy(m);
}

/* A bag of words: the TF-IDF, weights and predictions of scikit-learn. */
static void test_bag_of_words(void)
{
    enum { TEXTS = 60, WORDS = 30 };
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_file *file = open_golden(m, "bag");
    size_t start[TEXTS + 1], count, pieces, i;
    int32_t *starts = (int32_t *)(void *)read_golden(file, "", "start", &count);
    ft__bag bag = {TEXTS, WORDS, 0, start, NULL, NULL, NULL, NULL};
    double idf[WORDS], w[3 * (WORDS + 1)], logits[3];
    float got[3 * (WORDS + 1)], *want;
    int classes, total;
    for (i = 0; i <= TEXTS; ++i) start[i] = (size_t)starts[i];
    bag.word = (int *)(void *)read_golden(file, "", "word", &count);
    bag.held = (int *)(void *)read_golden(file, "", "held", &count);
    bag.label = (int *)(void *)read_golden(file, "2/", "labels", &count);
    bag.weight = read_golden(file, "", "count", &pieces);
    ft__bag_weigh(&bag, idf);
    want = read_golden(file, "", "weight", &count);
    compare("bag of words", "TF-IDF", bag.weight, want, pieces, of_operator);
    free(want);
    for (classes = 2; classes <= 3; ++classes) {
        size_t weights = (size_t)(classes > 2 ? classes : 1) * WORDS;
        const char *key = classes > 2 ? "3/" : "2/";
        float *right = read_golden(file, key, "right", &count);
        bag.classes = classes;
        free(bag.label);
        bag.label = (int *)(void *)read_golden(file, key, "labels", &count);
        ft__bag_fit(&m->context, &bag, 1e-8, w);
        for (i = 0; i < weights + weights / WORDS; ++i) got[i] = (float)w[i];
        want = read_golden(file, key, "coef", &count);
        compare("bag of words", "weights", got, want, weights, 1e-4);
        free(want);
        want = read_golden(file, key, "intercept", &count);
        compare("bag of words", "biases", got + weights, want, weights / WORDS, 1e-4);
        free(want);
        CHECK(ft__bag_right(&bag, w, logits, &total) == *(int32_t *)(void *)right && total == TEXTS / 3,
              "%d classes: %d held back", classes, total);
        free(right);
        test_bag_network(file, key, classes, start, idf);
    }
    free(starts);
    free(bag.word);
    free(bag.held);
    free(bag.label);
    free(bag.weight);
    ft_file_close(file);
    ft_destroy(m);
}

/* Lion by the formula of Chen et al. 2023, in double. */
static void test_lion(void)
{
    enum { COUNT = 37 };
    const double beta1 = 0.8, beta2 = 0.95, decay = 0.1, clip = 2;
    float p[COUNT], g[COUNT];
    double want[COUNT], moment[COUNT] = {0};
    ft_optimizer_options lion = {.optimizer = FT_LION, .beta1 = 0.8f, .beta2 = 0.95f,
                                 .weight_decay = 0.1f, .clip_norm = 2};
    ft_desc desc = {.threads = 1};
    ft_model *m = ft_create(desc);
    ft_parameter_options options = {.size = {COUNT}};
    ft_node node = ft_parameter(m, "p", options);
    int step, i;
    by_formula("lion.p", p, COUNT, -1, 1);
    ft_set(m, node, p, COUNT);
    ft_set_optimizer(m, lion);
    ft__plan_leaves(m, ft__one, true);
    for (i = 0; i < COUNT; ++i) want[i] = (double)p[i];
    for (step = 0; step < 10; ++step) {
        double rate = 0.01 * (step + 1), norm = 0;
        char name[16];
        snprintf(name, sizeof name, "lion.g%d", step);
        by_formula(name, g, COUNT, -1, 1);
        if (step == 4) g[3] = 0;
        for (i = 0; i < COUNT; ++i) norm += (double)g[i] * (double)g[i];
        norm = sqrt(norm) > clip ? clip / sqrt(norm) : 1;
        for (i = 0; i < COUNT; ++i) {
            double now = (double)g[i] * norm, way = beta1 * moment[i] + (1 - beta1) * now;
            want[i] -= rate * decay * want[i];
            want[i] -= rate * (way > 0 ? 1 : way < 0 ? -1 : 0);
            moment[i] = beta2 * moment[i] + (1 - beta2) * now;
        }
        memcpy(m->nodes[node.id - 1].gradient, g, sizeof g);
        ft__optimizer_step(m, (float)rate);
    }
    for (i = 0; i < COUNT; ++i) g[i] = (float)want[i];
    compare("lion", "after ten steps", m->nodes[node.id - 1].value, g, COUNT, of_operator);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- An embedding of which each step uses a few rows, and one is padding ---- */
enum { WORDS = 24, FEATURES = 5 };

typedef struct embedding_case { const char *name; ft_optimizer_options optimizer; } embedding_case;

static void test_embedding(const embedding_case *c, ft_file *file)
{
    ft_desc desc = {.threads = 2};
    ft_model *m = ft_create(desc);
    ft_input_options words = {.type = FT_I32, .size = {FT_LENGTH}};
    ft_input_options target = {.size = {FT_LENGTH, FEATURES}};
    ft_embedding_options padded = {.padded = true};
    ft_node tokens = ft_input(m, "tokens", words), weight;
    ft_node x = ft_embedding(m, "embedding", tokens, WORDS, FEATURES, padded);
    float targets[10 * 3 * 4 * FEATURES], value[WORDS * FEATURES], *want, *ids;
    size_t count;
    int step;
    ft_set_loss(m, ft_mse(m, "loss", x, ft_input(m, "target", target)));
    by_formula("embedding.weight", value, WORDS * FEATURES, -1, 1);
    by_formula("embedding.target", targets, sizeof targets / sizeof *targets, -1, 1);
    weight = ft_find(m, "embedding.weight");
    ft_set(m, weight, value, WORDS * FEATURES);
    ft_set_length(m, 4);
    ft_set_optimizer(m, c->optimizer);
    ids = read_golden(file, "", "ids", &count);
    for (step = 0; step < 10; ++step) {
        ft_feed(m, tokens, ids + step * 12, 3);
        ft_feed(m, ft_find(m, "target"), targets + step * 12 * FEATURES, 3);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, (c->optimizer.optimizer == FT_SGD ? 0.5f : 0.01f) * (float)(step + 1));
    }
    ft_get(m, weight, value, WORDS * FEATURES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    want = read_golden(file, "", c->name, &count);
    compare("embedding", c->name, value, want, count, of_operator);
    free(want);
    free(ids);
    ft_destroy(m);
}

static void test_embeddings(void)
{
    static const embedding_case cases[] = {
        {"sgd", {.optimizer = FT_SGD, .clip_norm = 0.15f}},
        {"sgd_momentum", {.optimizer = FT_SGD, .momentum = 0.9f, .clip_norm = 0.15f}},
        {"sgd_decay", {.optimizer = FT_SGD, .weight_decay = 0.1f, .clip_norm = 0.15f}},
        {"adam", {.optimizer = FT_ADAM, .clip_norm = 0.15f}},
        {"adam_decay", {.optimizer = FT_ADAM, .weight_decay = 0.1f, .clip_norm = 0.15f}},
        {"adamw", {.optimizer = FT_ADAMW, .weight_decay = 0.1f, .clip_norm = 0.15f}}};
    ft_desc desc = {.threads = 1};
    ft_model *m = ft_create(desc);
    ft_file *file = open_golden(m, "embedding");
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) test_embedding(&cases[i], file);
    ft_file_close(file);
    ft_destroy(m);
}

/* ---- Networks: weights made by the formula of make_goldens.py ---- */

static void set_by_formula(ft_model *m, ft_file *file)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one), stored;
        bool norm = strstr(node->name, "bn") || strstr(node->name, "downsample.1");
        double bound = node->shape.rank > 1
            ? sqrt(6.0 / ((double)count / node->shape.size[0])) : 0.2;
        float *statistics;
        if (!ft__is_weight(node)) continue;
        if (norm && ft__ends_with(node->name, "weight"))
            by_formula(node->name, node->value, count, 0.8, 1.2);
        else if (node->op == FT__OP_parameter)
            by_formula(node->name, node->value, count, -bound, bound);
        else {
            statistics = read_golden(file, "stats/", node->name, &stored);
            CHECK(statistics && stored == count, "%s is in the golden file", node->name);
            if (statistics) memcpy(node->value, statistics, count * sizeof(float));
            free(statistics);
        }
    }
    m->weights_version += 1;
}

/* The CNN of make_goldens.py. */
static void build_cnn(ft_model *m)
{
    ft_input_options picture = {.size = {3, 12, 10}}, label = {.type = FT_I32};
    ft_conv2d_options first = {.kernel = {3}, .padding = {1}, .no_bias = true};
    ft_conv2d_options second = {.kernel = {3}, .stride = {2}, .no_bias = true};
    ft_batch_norm_options norm = {.eps = 0};
    ft_pool2d_options pool = {.kernel = {2}};
    ft_linear_options linear = {.no_bias = false};
    ft_activation_options none = {.slope = 0};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_node x = ft_input(m, "input", picture);
    x = ft_batch_norm(m, "bn1", ft_conv2d(m, "conv1", x, 8, first), norm);
    x = ft_max_pool2d(m, "pool", ft_activation(m, "relu", "relu1", x, none), pool);
    x = ft_batch_norm(m, "bn2", ft_conv2d(m, "conv2", x, 12, second), norm);
    x = ft_flatten(m, "flatten", ft_activation(m, "relu", "relu2", x, none));
    x = ft_activation(m, "relu", "relu3", ft_linear(m, "fc1", x, 16, linear), none);
    x = ft_linear(m, "fc2", x, 5, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
}

typedef struct network_case {
    const char *golden, *variant;   /* file, and prefix of what was trained */
    const char *network;            /* NULL: the CNN */
    const char *freeze;
    ft_optimizer_options optimizer;
    int batch;
    size_t pixels;
    double after;                   /* tolerance after ten steps */
} network_case;

static void compare_logits(ft_model *m, ft_file *file, const network_case *c, const char *key,
                           const float *x, double tolerance)
{
    size_t count;
    float *want = read_golden(file, "", key, &count), *got = (float *)calloc(count, sizeof *got);
    ft_run(m, x, c->batch, got, count);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare(c->golden, key, got, want, count, tolerance);
    free(got);
    free(want);
}

/* One relu of ResNet-18 has an input that is 0 but for rounding (make_goldens.py, close_first): a run
   agrees with PyTorch's where it is open or, if its logits are nearer to these, where it is closed. */
static bool took_other_course(ft_model *m, ft_file *file, const network_case *c, const float *x)
{
    size_t count, i;
    float *open = read_golden(file, "", "after/logits", &count), *got;
    float *closed = read_golden(file, "", "closed/logits", &count);
    double to_open = 0, to_closed = 0;
    if (!closed) {
        free(open);
        return false;
    }
    got = (float *)calloc(count, sizeof *got);
    ft_run(m, x, c->batch, got, count);
    for (i = 0; i < count; ++i) {
        to_open += fabs((double)got[i] - (double)open[i]);
        to_closed += fabs((double)got[i] - (double)closed[i]);
    }
    free(got);
    free(open);
    free(closed);
    return to_closed < to_open;
}

/* Every weight that the file has under this prefix. */
static void compare_weights(ft_model *m, ft_file *file, const char *golden, const char *prefix,
                            double tolerance)
{
    int i, compared = 0;
    for (i = 0; i < m->node_count; ++i) {
        size_t count;
        float *want = read_golden(file, prefix, m->nodes[i].name, &count);
        if (want && ft__is_weight(&m->nodes[i])) {
            compare(golden, m->nodes[i].name, m->nodes[i].value, want, count, tolerance);
            compared += 1;
        }
        free(want);
    }
    CHECK(compared >= 4, "%s: only %d weights compared", prefix, compared);
}

static void test_network(const network_case *c, const char *simd)
{
    char input[64], prefix[64], key[80];
    float *x = (float *)calloc((size_t)c->batch * c->pixels, sizeof *x), losses[10], *want, *labels;
    ft_network_options options;
    ft_desc desc;
    ft_model *m;
    ft_file *file;
    size_t count;
    int step;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    desc.simd = simd;
    m = ft_create(desc);
    file = open_golden(m, c->golden);
    options.classes = 10;
    options.image_size = c->pixels == 3 * 64 * 64 ? 64 : 32;
    if (c->network) ft_network(m, c->network, options);
    else build_cnn(m);
    set_by_formula(m, file);
    snprintf(input, sizeof input, "%s.input", c->golden);
    by_formula(input, x, (size_t)c->batch * c->pixels, -2, 2);
    compare_logits(m, file, c, "logits", x, of_network);
    labels = read_golden(file, "", "labels", &count);
    ft_freeze(m, c->freeze);
    ft_set_optimizer(m, c->optimizer);
    for (step = 0; step < 10; ++step) {
        ft_feed(m, ft_find(m, "input"), x, c->batch);
        ft_feed(m, ft_find(m, "labels"), labels, c->batch);
        losses[step] = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, c->optimizer.learning_rate);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    snprintf(prefix, sizeof prefix, "%s", c->variant);
    if (took_other_course(m, file, c, x)) snprintf(prefix, sizeof prefix, "closed/");
    snprintf(key, sizeof key, "%slosses", c->network ? "" : prefix);
    want = read_golden(file, "", key, &count);
    compare(c->golden, key, losses, want, 10, c->after);
    snprintf(key, sizeof key, "%slogits", prefix);
    compare_logits(m, file, c, key, x, c->after);
    compare_weights(m, file, c->golden, prefix, c->after);
    free(want);
    free(labels);
    free(x);
    ft_file_close(file);
    ft_destroy(m);
}

static void test_networks(const char *simd)
{
    static const ft_optimizer_options sgd = {.optimizer = FT_SGD, .learning_rate = 0.05f,
                                             .momentum = 0.9f, .weight_decay = 1e-4f};
    static const ft_optimizer_options slow = {.optimizer = FT_SGD, .learning_rate = 0.002f,
                                              .momentum = 0.9f, .weight_decay = 1e-4f};
    static const ft_optimizer_options adamw = {.optimizer = FT_ADAMW, .learning_rate = 1e-3f,
                                               .weight_decay = 0.01f};
    static const ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-3f};
    const network_case cases[] = {
        {"cnn", "sgd/", NULL, "", sgd, 8, 3 * 12 * 10, of_ten_steps},
        {"cnn", "adamw/", NULL, "", adamw, 8, 3 * 12 * 10, of_ten_steps},
        {"cnn", "adam/", NULL, "", adam, 8, 3 * 12 * 10, of_ten_steps},
        {"cnn", "frozen/", NULL, "conv1*,bn1*", adamw, 8, 3 * 12 * 10, of_ten_steps},
        {"resnet20", "after/", "resnet20", "", slow, 4, 3 * 32 * 32, of_ten_steps},
        {"resnet18", "after/", "resnet18", "", slow, 4, 3 * 64 * 64, of_ten_steps}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) test_network(&cases[i], simd);
}

/* ---- Recurrent networks: an embedding, two layers, a head on the last real steps, or on h_n and
   c_n ---- */

typedef struct recurrent_case {
    const char *name;
    ft_node (*make)(ft_model *m, const char *name, ft_node x, int hidden,
                    ft_recurrent_options options);
    bool bidirectional, packed, states;
} recurrent_case;

enum { SEQUENCES = 5, STEPS = 7, CLASSES = 3 };

static void build_recurrent(ft_model *m, const recurrent_case *c)
{
    ft_input_options words = {.type = FT_I32, .size = {FT_LENGTH}}, label = {.type = FT_I32};
    ft_embedding_options embedding = {.padded = true};
    ft_recurrent_options options = {.layers = 2, .bidirectional = c->bidirectional};
    ft_step_pool_options pool = {.bidirectional = c->bidirectional};
    ft_linear_options linear = {.no_bias = false};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_node x = ft_input(m, "tokens", words), none = {0}, states[2];
    ft_node lengths = c->packed ? ft_input(m, "lengths", label) : none;
    options.lengths = lengths;
    options.final_states = c->states;
    x = c->make(m, "rnn", ft_embedding(m, "embedding", x, 11, 6, embedding), 5, options);
    states[0] = ft_find(m, "rnn.h_n");
    states[1] = ft_find(m, "rnn.c_n");
    if (c->states) x = ft_concat(m, "states", states[1].id ? 2 : 1, states, 1);
    else x = ft_step_pool(m, "pool", x, lengths, pool);
    x = ft_linear(m, "head", x, CLASSES, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
}

static void test_recurrent(const recurrent_case *c, const char *simd)
{
    static const ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-2f};
    ft_desc desc = {.threads = 2, .simd = simd};
    ft_model *m = ft_create(desc);
    ft_file *file = open_golden(m, "recurrent");
    float *ids, *lengths, *labels, *want, losses[10], logits[SEQUENCES * CLASSES];
    const char *keys[] = {"logits", "after"};
    char prefix[64];
    size_t count;
    int step, i;
    snprintf(prefix, sizeof prefix, "%s/", c->name);
    build_recurrent(m, c);
    set_by_formula(m, file);
    ft_set_length(m, STEPS);
    ft_set_optimizer(m, adam);
    ids = read_golden(file, "", "ids", &count);
    lengths = read_golden(file, "", "lengths", &count);
    labels = read_golden(file, "", "labels", &count);
    for (i = 0; i < 2; ++i) {
        if (!c->packed) ft_run(m, ids, SEQUENCES, logits, SEQUENCES * CLASSES);
        else ft_run_lengths(m, ids, (const int *)(const void *)lengths, SEQUENCES, logits,
                            SEQUENCES * CLASSES);
        want = read_golden(file, prefix, keys[i], &count);
        compare(c->name, keys[i], logits, want, count, i ? of_ten_steps : of_network);
        free(want);
        for (step = 0; i == 0 && step < 10; ++step) {
            ft_feed(m, ft_find(m, "tokens"), ids, SEQUENCES);
            ft_feed(m, ft_find(m, "labels"), labels, SEQUENCES);
            losses[step] = ft_forward(m, true);
            ft_backward(m);
            ft_update(m, adam.learning_rate);
        }
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    want = read_golden(file, prefix, "losses", &count);
    compare(c->name, "losses", losses, want, 10, of_ten_steps);
    compare_weights(m, file, c->name, prefix, of_ten_steps);
    free(want);
    free(ids);
    free(lengths);
    free(labels);
    ft_file_close(file);
    ft_destroy(m);
}

static void test_recurrents(const char *simd)
{
    static const recurrent_case cases[] = {
        {"lstm", ft_lstm, false, false, false}, {"lstm_both", ft_lstm, true, false, false},
        {"lstm_packed", ft_lstm, false, true, false},
        {"lstm_packed_both", ft_lstm, true, true, false},
        {"gru", ft_gru, false, false, false}, {"gru_packed_both", ft_gru, true, true, false},
        {"rnn_packed", ft_rnn, false, true, false}, {"lstm_states", ft_lstm, false, false, true},
        {"lstm_states_packed_both", ft_lstm, true, true, true},
        {"gru_states_packed_both", ft_gru, true, true, true},
        {"rnn_states_packed", ft_rnn, false, true, true}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) test_recurrent(&cases[i], simd);
}

/* Counts a level that is missing here as skipped. */
static bool has_level(const char *simd)
{
    ft_desc desc = {.simd = simd};
    ft_model *m = ft_create(desc);
    bool has = ft_error(m) != FT_UNSUPPORTED;
    ft_destroy(m);
    if (!has) skip_level(simd);
    return has;
}

int main(int count, char **words)
{
#ifdef FINETUNE_NO_SIMD
    static const char *const levels[] = {"none"};
#else
    static const char *const levels[] = {"none", "sse2", "avx2", "avx512", "neon"};
#endif
    size_t i;
    if (count > 1) {
        test_operators(NULL, 1, words[1]);
        return check_done("test_golden");
    }
    for (i = 0; i < sizeof levels / sizeof levels[0]; ++i) {
        if (!has_level(levels[i])) continue;
        test_operators(levels[i], 2, NULL);
        test_networks(levels[i]);
        test_recurrents(levels[i]);
    }
    test_optimizers();
    test_more_optimizers();
    test_bag_of_words();
    test_lion();
    test_embeddings();
    return check_done("test_golden");
}
