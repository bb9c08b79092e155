/* test_internals.c - promises of public functions that only the implementation can show: frozen
   layers hold no gradient and no optimiser state, some values are not kept, rows of embeddings
   without a gradient are not updated yet, and a head stays. Metrics equal scikit-learn's. */
#include "check.h"
#include "internals.h"
#include "branches.h"

#include <time.h>

enum { CLASSES = 3, SAMPLES = 24 };

static float values[SAMPLES * 6];
static int labels[SAMPLES];

/* fc1, a norm, fc2, over vectors of 6 */
static ft_model *small_model(void)
{
    ft_desc desc = {.seed = 3, .threads = 2};
    ft_model *m = ft_create(desc);
    ft_input_options six = {.size = {6}}, label = {.type = FT_I32};
    ft_activation_options none = {.slope = 0};
    ft_node x = ft_linear(m, "fc1", ft_input(m, "input", six), 8, (ft_linear_options){0});
    x = ft_batch_norm(m, "bn1", x, (ft_batch_norm_options){0});
    x = ft_linear(m, "fc2", ft_activation(m, "relu", "relu1", x, none), CLASSES,
                  (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label),
                                    (ft_loss_options){0}));
    return m;
}

static ft_data *small_data(ft_model *m)
{
    return ft_arrays(m, SAMPLES, values, labels, (ft_array_options){.classes = CLASSES});
}

static const ft__node *node_of(const ft_model *m, const char *name)
{
    ft_node node = ft_find(m, name);
    CHECK(node.id > 0, "%s is a node", name);
    return node.id ? &m->nodes[node.id - 1] : NULL;
}

/* Of three kinds of optimiser: nothing of what is frozen, all of what is trained. */
static void test_frozen(ft_optimizer optimizer)
{
    static const char *const frozen[] = {"fc1.weight", "fc1.bias", "bn1.weight", "bn1.bias",
                                         "bn1.running_mean", "bn1.running_var"};
    ft_model *m = small_model();
    ft_fit_options o = {.epochs = 2, .batch_size = 8, .optimizer = {.optimizer = optimizer}};
    const ft__node *trained = node_of(m, "fc2.weight");
    int i;
    if (optimizer == FT_SGD) o.optimizer.momentum = 0.9f;
    ft_fit(m, small_data(m), o); /* all are trained */
    CHECK(node_of(m, "fc1.weight")->moment1 != NULL, "there is a state");
    ft_freeze(m, "fc1*,bn1.weight,bn1.bias");
    ft_fit(m, small_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < 6; ++i) {
        const ft__node *n = node_of(m, frozen[i]);
        CHECK(!n->gradient && !n->moment1 && !n->moment2, "%s: gradient or optimiser state",
              frozen[i]);
    }
    CHECK(trained->gradient && trained->moment1 && (trained->moment2 || optimizer == FT_SGD),
          "fc2.weight is trained");
    ft_destroy(m);
}

/* Values that cross each step, the steps restored before each one's backward, and how long shared
   gradients last: against loops over all pairs. The plan cannot run afterwards. */
static void check_plan(ft_model *m, const char *what)
{
    ft__plan *plan = m->plans[1];
    int *crossing = (int *)calloc((size_t)plan->step_count + 1, sizeof *crossing), i, j, k, next;
    bool same = true, listed = true, lasts = true;
    plan->reader_end = (int *)ft__allocate(&m->context, (size_t)m->node_count + 1, sizeof(int));
    ft__plan_readers(m, plan);
    ft__count_crossing(plan, crossing);
    for (i = plan->first_trained; i < plan->step_count; ++i) {
        int count = 0;
        for (j = plan->first_trained; j < i; ++j) {
            bool crosses = false;
            for (k = i; k < plan->step_count && !crosses; ++k) {
                const ft__node *reader = &m->nodes[plan->steps[k].id - 1];
                int input;
                for (input = 0; input < reader->input_count; ++input) {
                    int id = reader->inputs[input], of = m->nodes[id - 1].layout.source;
                    if ((of ? of : id) == plan->steps[j].output) crosses = true; /* of: a view of */
                }
            }
            count += crosses;
        }
        if (count != crossing[i]) same = false;
    }
    for (i = 0; i < plan->step_count; ++i)
        plan->steps[i].alone = 7 * i % (plan->step_count / 2) + 1;
    ft__list_restored(plan);
    for (i = 0; i < plan->step_count; ++i) {
        int id = plan->steps[i].output, last = plan->steps[i].moment_back;
        next = plan->steps[i].restores;
        for (j = 0; j < plan->step_count; ++j)
            if (plan->steps[j].alone == i + 1) {
                if (next != j + 1) listed = false;
                else next = plan->steps[j].next_restored;
            }
        if (next) listed = false;
        for (j = 0; j < i; ++j)
            if (plan->shares[plan->steps[j].output - 1] == id && plan->steps[j].moment_back > last)
                last = plan->steps[j].moment_back;
        if (plan->shares[id - 1] == id && plan->shared_until[id - 1] != last) lasts = false;
    }
    CHECK(same && listed && lasts, "%s: %s", what, !same ? "the values that cross a step"
          : !listed ? "the steps restored before another's backward" : "shared gradients");
    ft__release(&m->context, plan->readers);
    ft__release(&m->context, plan->reader_end);
    plan->readers = plan->reader_end = NULL;
    free(crossing);
}

/* ---- Batch norms between two convolutions are not kept for backward (test_memory.c) ---- */
static void test_alone(int width, bool with_state, const char *freeze, int want)
{
    static float pictures[2 * PIXELS];
    static const int classes[2] = {1, 3};
    ft_desc desc = {.seed = 3, .threads = 2};
    ft_model *m = ft_create(desc);
    int i, alone = 0;
    build_branches(m, width, with_state);
    ft_freeze(m, freeze);
    ft_feed(m, ft_find(m, "input"), pictures, 2);
    ft_feed(m, ft_find(m, "labels"), classes, 2);
    ft_forward(m, true);
    CHECK(ft_error(m) == FT_OK && m->plans[1], "%s", ft_error_text(m));
    for (i = 0; m->plans[1] && i < m->plans[1]->step_count; ++i)
        alone += m->plans[1]->steps[i].alone > 0;
    if (m->plans[1]) check_plan(m, want ? "wide branches" : "branches");
    CHECK(alone == want, "%d batch norms are not kept: all but those before gelu and silu", alone);
    ft_destroy(m);
}

/* ---- An embedding's rows rest, but where each update moves all of them (test_sequences.c) ---- */
static void test_resting(ft_optimizer_options o, int threads)
{
    enum { WORDS = 40, FEATURES = 5, STEPS = 60 };
    ft_model *m = ft_create((ft_desc){.threads = threads, .seed = 3});
    ft_node tokens = ft_input(m, "tokens", (ft_input_options){.type = FT_I32});
    ft_node target = ft_input(m, "target", (ft_input_options){.size = {FEATURES}});
    ft_node x = ft_embedding(m, "words", tokens, WORDS, FEATURES, (ft_embedding_options){0});
    int32_t ids[2];
    float zeros[2 * FEATURES] = {0};
    int step;
    ft_set_loss(m, ft_mse(m, "loss", x, target));
    ft_set_optimizer(m, o);
    for (step = 0; step < STEPS; ++step) {
        ids[0] = step % 7;
        ids[1] = step % 30;
        ft_feed(m, tokens, ids, 2);
        ft_feed(m, target, zeros, 2);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK((node_of(m, "words.weight")->resting != NULL) == (o.momentum == 0),
          "optimizer %d, momentum %g: its rows rest", (int)o.optimizer, (double)o.momentum);
    ft_destroy(m);
}

/* A damaged file may ask for a layer that carries a state and has none: refused, not run. */
static void test_no_state(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 3}}), inputs[3];
    ft__options o;
    memset(&o, 0, sizeof o);
    o.recurrent.hidden = 2;
    o.recurrent.no_bias = o.recurrent.carry = true;
    inputs[0] = x;
    inputs[1] = ft_parameter(m, "ih", (ft_parameter_options){.size = {2, 3}});
    inputs[2] = ft_parameter(m, "hh", (ft_parameter_options){.size = {2, 2}});
    ft__add_node(m, &ft__row_rnn, "rnn", inputs, 3, &o, sizeof o);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "carry needs a first state"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* The same classes again: the head stays. Other names are other classes. */
static void test_same_classes(void)
{
    static const char *const names[] = {"across", NULL, "middle"};
    ft_model *m = small_model();
    ft_data *data = small_data(m);
    ft_finetune(m, data, (ft_finetune_options){.epochs = 2});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft__same_classes(m, data), "the same classes again: the head stays");
    ft_set_class_names(m, CLASSES, names);
    CHECK(!ft__same_classes(m, data), "other names are other classes");
    ft_destroy(m);
}

/* ---- Plans of networks of many nodes ---- */

/* A chain of `nodes` activations, each third also added to an earlier one, in a tight budget. */
static ft_model *long_chain(int nodes, size_t budget)
{
    ft_desc desc = {.threads = 1, .memory_budget = budget};
    ft_model *m = ft_create(desc);
    ft_input_options in = {.size = {64}}, label = {.type = FT_I32};
    ft_activation_options none = {.slope = 0};
    ft_node x = ft_linear(m, "first", ft_input(m, "input", in), 64, (ft_linear_options){0});
    ft_node early = x;
    char name[32];
    int i;
    for (i = 0; i < nodes; ++i) {
        snprintf(name, sizeof name, "n%d", i);
        x = i % 3 == 2 ? ft_add(m, name, x, early) : ft_activation(m, "tanh", name, x, none);
        if (i % 100 == 50) early = x;
    }
    x = ft_linear(m, "last", x, CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label),
                                    (ft_loss_options){0}));
    return m;
}

/* Plans of many nodes: right, and made in a time that grows with the nodes, not with their
   cube (7.8 s for 2,000 of them in a budget, before). */
static void test_many_nodes(void)
{
    static float x[8 * 64];
    static int y[8];
    static const int nodes[] = {90, 300, 6000};
    static const size_t budgets[] = {0, 650000, 12000000};
    clock_t start = clock();
    int i;
    for (i = 0; i < 3; ++i) {
        ft_model *m = long_chain(nodes[i], budgets[i]);
        ft_feed(m, ft_find(m, "input"), x, 8);
        ft_feed(m, ft_find(m, "labels"), y, 8);
        ft_forward(m, true);
        ft_backward(m);
        CHECK(ft_error(m) == FT_OK && (m->plans[1]->parts > 1) == (budgets[i] > 0), "%d parts; %s",
              ft_error(m) ? 0 : m->plans[1]->parts, ft_error_text(m));
        if (ft_error(m) == FT_OK && nodes[i] <= 300) check_plan(m, "a chain");
        ft_destroy(m);
    }
    CHECK(clock() - start < 20 * CLOCKS_PER_SEC, "planning 6,000 nodes takes %d s",
          (int)((clock() - start) / CLOCKS_PER_SEC));
}

/* The text of a file in docs/, to be read before the next one; "" if it cannot be read. */
static const char *read_docs(const char *path)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "rb");
    text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
    if (file) fclose(file);
    return text;
}

/* Whether the line of a table in docs/ for `op`, which names it in its first cell, has `word`. */
static bool documented(const char *text, const char *op, const char *word)
{
    char name[80], field[80];
    const char *line, *end, *cell;
    snprintf(name, sizeof name, "`%s`", op);
    snprintf(field, sizeof field, "`%s`", word);
    for (line = text; (line = strstr(line, "\n| `")) != NULL; line += 1) {
        const char *at = strstr(line, name);
        cell = strchr(line + 2, '|');
        end = strchr(line + 1, '\n');
        if (!cell || !end || !at || at > cell) continue;
        at = strstr(line, field);
        if (at && at < end) return true;
    }
    return false;
}

/* Every operator and every field that a description may have is in docs/networks.md. */
static void test_documented(void)
{
    const char *text = read_docs("docs/networks.md");
    int op;
    CHECK(strlen(text) > 1000 && !documented(text, "conv2d", "axes"), "docs/networks.md cannot be read");
    for (op = FT__OP_none + 1; op < FT__OP_COUNT; ++op) {
        const ft__field *field = ft__rows[op]->fields;
        if (ft__rows[op]->flags & FT__CALLBACKS) continue;
        CHECK(documented(text, ft__rows[op]->name, ft__rows[op]->name), "%s is not in docs/networks.md",
              ft__rows[op]->name);
        for (; field->name; ++field)
            if (ft__rows[op]->op != FT__OP_conv1d) /* "the same" as conv2d's */
                CHECK(documented(text, ft__rows[op]->name, field->name), "%s of %s is not in docs/networks.md",
                      field->name, ft__rows[op]->name);
    }
}

/* The name of one of ONNX's operators that are read, without its domain. */
static const char *mapped_onnx(size_t i)
{
    const char *dot = strrchr(ft__onnx_maps[i].op, '.');
    return dot ? dot + 1 : ft__onnx_maps[i].op;
}

/* Whether ONNX's operator of this name is read. */
static bool reads_onnx(const char *name)
{
    size_t i;
    for (i = 0; i < sizeof ft__onnx_maps / sizeof *ft__onnx_maps; ++i)
        if (strcmp(mapped_onnx(i), name) == 0) return true;
    return ft__onnx_fold_of(name) != NULL;
}

/* docs/onnx.md has the ONNX operators that are read, and no others. */
static void test_documented_onnx(void)
{
    const char *text = read_docs("docs/onnx.md"), *line, *at;
    size_t i, length;
    char name[80];
    CHECK(strlen(text) > 1000 && !documented(text, "Hardmax", "Hardmax"), "docs/onnx.md cannot be read");
    for (i = 0; i < sizeof ft__onnx_maps / sizeof *ft__onnx_maps; ++i) {
        const char *op = mapped_onnx(i);
        CHECK(documented(text, op, op), "%s is not in docs/onnx.md", op);
    }
    for (i = 0; i < sizeof ft__onnx_folds / sizeof *ft__onnx_folds; ++i)
        CHECK(documented(text, ft__onnx_folds[i].op, ft__onnx_folds[i].op), "%s is not in docs/onnx.md",
              ft__onnx_folds[i].op);
    for (line = text; (line = strstr(line, "\n| `")) != NULL; ++line)
        for (at = line + 3; *at == '`' || strncmp(at, ", `", 3) == 0; at += length + 1) {
            at += *at == '`' ? 1 : 3;
            length = strcspn(at, "`");
            snprintf(name, sizeof name, "%.*s", (int)length, at);
            CHECK(reads_onnx(name), "docs/onnx.md has %s, which is not read", name);
        }
}

/* ONNX files can hold every operator but losses and those of ft_custom. */
static void test_written_as_onnx(void)
{
    static const char losses[] = " cross_entropy soft_cross_entropy binary_cross_entropy mse linear_cross_entropy l1 smooth_l1"
        " huber focal sigmoid_focal hinge ctc_loss ";
    int op;
    for (op = FT__OP_none + 1; op < FT__OP_COUNT; ++op) {
        char name[60];
        bool written = ft__onnx_writer_of(op) != NULL;
        snprintf(name, sizeof name, " %s ", ft__rows[op]->name);
        CHECK(written != (strstr(losses, name) || ft__rows[op]->flags & (FT__LEAF | FT__CALLBACKS)),
              "%s can%s be written as ONNX", ft__rows[op]->name, written ? "" : "not");
    }
}

/* Numbers that JSON has no digits for. */
static void test_no_digits(void)
{
    static const double numbers[] = {NAN, HUGE_VAL, -HUGE_VAL, 0.5};
    static const char *const texts[] = {"\"nan\"", "\"inf\"", "\"-inf\"", "0.5"};
    ft_model *m = ft_create((ft_desc){0});
    int i;
    for (i = 0; i < 4; ++i) {
        ft__text onnx = {0}, graph = {0};
        ft__json *json;
        double number = 1;
        onnx.context = graph.context = &m->context;
        ft__onnx_write_number(&onnx, numbers[i]);
        ft__write_number(&graph, (float)numbers[i]);
        CHECK(!strcmp(onnx.letters, texts[i]) && !strcmp(graph.letters, texts[i]), "%s, %s", onnx.letters, graph.letters);
        json = ft__json_parse(&m->context, graph.letters, strlen(graph.letters));
        CHECK(json && ft__read_number(json, 0, &number) && (i == 0) == (number != number)
              && (i == 0 || !(number < numbers[i] || number > numbers[i])), "%s is read as %g", texts[i], number);
        ft__json_free(&m->context, json);
        ft__release(&m->context, onnx.letters);
        ft__release(&m->context, graph.letters);
    }
    ft_destroy(m);
}

/* An arena can be filled to its last byte, and a released last block is free again. */
static void test_full_arena(void)
{
    static unsigned char arena[1 << 16];
    size_t misaligned = (size_t)((uintptr_t)arena % FT__ALIGNMENT), offset, free_bytes;
    for (offset = 0; offset < 3; ++offset) {
        ft_desc desc = {.arena = arena + (FT__ALIGNMENT - misaligned) + offset,
                        .arena_bytes = sizeof arena / 2 + offset};
        ft_model *m = ft_create(desc);
        ft__context *c = &m->context;
        unsigned char *block;
        ft__release(c, ft__allocate(c, 1, 1)); /* so that what follows is aligned */
        free_bytes = c->desc.arena_bytes - c->arena_used;
        CHECK(ft__memory_left(c) == free_bytes, "%zu bytes are left", free_bytes);
        free_bytes -= (FT__ALIGNMENT - (uintptr_t)(arena + (FT__ALIGNMENT - misaligned) + offset
                                                   + c->arena_used) % FT__ALIGNMENT) % FT__ALIGNMENT;
        block = (unsigned char *)ft__allocate(c, free_bytes - FT__ALIGNMENT, 1);
        CHECK(block && block + free_bytes - FT__ALIGNMENT
              == (unsigned char *)c->desc.arena + c->desc.arena_bytes, "the arena is not full: %s",
              ft_error_text(m));
        CHECK(ft__memory_left(c) == 0, "%zu bytes are left", ft__memory_left(c));
        if (block) block[free_bytes - FT__ALIGNMENT - 1] = 1;
        ft__release(c, block);
        CHECK(!ft__allocate(c, free_bytes - FT__ALIGNMENT + 1, 1) && ft_error(m) == FT_MEMORY,
              "one byte more than the arena has");
        ft_clear_error(m);
        ft_destroy(m);
    }
}

/* What a plan says it holds is what its release gives back. */
static void test_plan_bytes(void)
{
    ft_model *m = small_model();
    static float logits[SAMPLES * CLASSES];
    int training;
    ft_run(m, values, SAMPLES, logits, SAMPLES * CLASSES);
    ft_fit(m, small_data(m), (ft_fit_options){.epochs = 1, .batch_size = 8});
    for (training = 0; training < 2; ++training) {
        ft__plan *plan = m->plans[training];
        size_t before = m->context.bytes, said = plan ? plan->taken : 0;
        CHECK(said > 0, "there is a plan, training %d: %s", training, ft_error_text(m));
        ft__give_up_plan(m, training);
        CHECK(before - m->context.bytes == said, "training %d: %zu bytes, not %zu", training,
              before - m->context.bytes, said);
    }
    ft_destroy(m);
}

/* ---- Metrics (tests/golden/metrics.txt, by scikit-learn and scipy) ---- */

/* Two bootstrap intervals by other random numbers: their ends differ by a tenth of the width at most, once
   the expected one is widened to contain the value. */
static bool same_interval(const ft_measure *got, double low, double high)
{
    double near = 0.1 * (high - low) + 1e-9;
    if (isnan(low)) return got->low <= got->value && got->value <= got->high;
    if (low > got->value) low = got->value;
    if (high < got->value) high = got->value;
    return CLOSE(got->low, low, near) && CLOSE(got->high, high, near);
}

static void compare_metrics(FILE *file, const char *name, const ft_metrics *got)
{
    char metric[40], low[40], high[40], value[40];
    int compared = 0, k;
    bool wilson;
    while (fscanf(file, "%39s", metric) == 1 && strcmp(metric, "end") != 0) {
        const ft_measure *m = NULL;
        if (fscanf(file, "%39s %39s %39s", value, low, high) != 3) break;
        for (k = 0; k < FT_METRIC_COUNT; ++k)
            if (!strcmp(ft_metric_name((ft_metric)k), metric)) m = &got->of[k];
        CHECK(m && m->known == !isnan(atof(value)), "%s: %s: known", name, metric);
        compared += 1;
        if (!m || !m->known) continue;
        wilson = !strcmp(metric, "accuracy") || !strcmp(metric, "top5") || strstr(metric, "_micro");
        CHECK(CLOSE(m->value, atof(value), 1e-9), "%s: %s is %.17g, not %s", name, metric, m->value, value);
        CHECK(wilson ? CLOSE(m->low, atof(low), 1e-9) && CLOSE(m->high, atof(high), 1e-9)
                     : same_interval(m, atof(low), atof(high)),
              "%s: %s: %.6g to %.6g, not %s to %s", name, metric, m->low, m->high, low, high);
    }
    CHECK(compared == 17 || compared == 5, "%s: %d metrics", name, compared);
}

static void test_metrics(void)
{
    FILE *file = fopen("tests/golden/metrics.txt", "r");
    char name[40], kind[40];
    int cases = 0, samples, columns, i, k;
    ft_model *m = ft_create((ft_desc){0});
    while (file && fscanf(file, " case %39s %39s %d %d", name, kind, &samples, &columns) == 4) {
        double x[60 * 7], y[60 * 7];
        int label[60];
        bool classes = !strcmp(kind, "classes"), read = samples <= 60 && columns <= 7;
        ft__outcomes of = {.samples = samples, .columns = columns, .values = x};
        ft_metrics got;
        if (classes) of.labels = label;
        else of.targets = y;
        for (i = 0; read && i < samples; ++i) {
            read = !classes || fscanf(file, "%d", &label[i]) == 1;
            for (k = 0; read && k < columns; ++k) read = fscanf(file, "%lf", &x[i * columns + k]) == 1;
            for (k = 0; read && !classes && k < columns; ++k) read = fscanf(file, "%lf", &y[i * columns + k]) == 1;
        }
        CHECK(read, "%s can be read", name);
        if (!read) break;
        ft__measure(&m->context, &of, &got);
        CHECK(ft_error(m) == FT_OK && got.samples == samples && got.resamples == 1000, "%s", ft_error_text(m));
        compare_metrics(file, name, &got);
        cases += 1;
    }
    CHECK(cases == 10, "%d cases", cases);
    if (file) fclose(file);
    ft_destroy(m);
}

/* ---- Which settings of a sweep differ (training/paired) ----
   The numbers are those of scipy 1.17 and statsmodels 0.15:
     scipy.stats.binomtest(c, b + c, 0.5).pvalue          (McNemar's exact test)
     scipy.stats.permutation_test((d,), lambda x, axis: x.sum(axis), permutation_type="samples",
                                  vectorized=True, n_resamples=inf).pvalue
     statsmodels.stats.multitest.multipletests(p, method="holm")[1] */
static void test_paired(void)
{
    static const struct { int better, worse; double p; } right[] = {
        {1, 0, 1}, {8, 1, 0.0390625}, {5, 12, 0.143463134765625}, {30, 14, 0.022628841205914796},
        {150, 200, 0.008720036530555947}, {5, 5, 1}};
    static const double whole[] = {3, -1, 2, 2, -3, 1, 1, 2, 3, -1, 1, 2};
    static const double parts[] = {0.31, -0.12, 0.55, 0.07, 0.44, -0.25, 0.18, 0.62, -0.03, 0.29, 0.11, 0.4};
    static const double holm[] = {0.06, 0.16, 0.15, 0.035, 0.4, 0.16, 0.9};
    double p[] = {0.01, 0.04, 0.03, 0.005, 0.2, 0.04, 0.9}, d[400], got, low = 0, high = 0, mean = 0;
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft__context *c = &m->context;
    int order[7], i, k;
    for (i = 0; i < 6; ++i) {
        for (k = 0; k < 400; ++k) d[k] = 0; /* some stay so, between and behind */
        for (k = 0; k < right[i].better; ++k) d[k] = 1;
        for (k = 0; k < right[i].worse; ++k) d[right[i].better + 2 + k] = -1;
        got = ft__sign_flip(c, d, 400);
        CHECK(CLOSE(got, right[i].p, 1e-12), "%d better, %d worse: p %.15g, not %.15g", right[i].better,
              right[i].worse, got, right[i].p);
    }
    for (k = 0; k < 12; ++k) d[k] = whole[k];
    got = ft__sign_flip(c, d, 12);
    CHECK(CLOSE(got, 0.11328125, 1e-12), "whole numbers: p %.15g", got);
    for (k = 0; k < 12; ++k) d[k] = parts[k];
    got = ft__sign_flip(c, d, 12); /* 9999 draws: a standard error of 0.0015 */
    CHECK(CLOSE(got, 0.02197265625, 0.005), "numbers: p %.15g", got);
    for (k = 0; k < 400; ++k) d[k] = 0;
    CHECK(ft__sign_flip(c, d, 400) == 1 && ft__sign_flip(c, d, 0) == 1, "no difference at all");
    ft__holm(p, 7, order);
    for (i = 0; i < 7; ++i) CHECK(CLOSE(p[i], holm[i], 1e-15), "Holm, %d: %.15g, not %g", i, p[i], holm[i]);
    /* Of a mean of 400 numbers the interval is nearly the normal one, and differs by its own noise. */
    for (k = 0; k < 400; ++k) d[k] = (double)(k * 37 % 101) / 100;
    for (k = 0; k < 400; ++k) mean += d[k] / 400;
    for (got = 0, k = 0; k < 400; ++k) got += (d[k] - mean) * (d[k] - mean) / 400;
    ft__mean_interval(c, d, 400, &low, &high);
    CHECK(CLOSE(low, mean - 1.96 * sqrt(got / 400), 0.004) && CLOSE(high, mean + 1.96 * sqrt(got / 400), 0.004),
          "%.4f to %.4f", low, high);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* The heads of published vision transformers: Dosovitskiy et al. 2021, Zhai et al. 2022, Fang et al. 2022. */
static void test_heads(void)
{
    static const int sizes[][2] = {{192, 3}, {384, 6}, {768, 12}, {1024, 16}, {1280, 16}, {1408, 16},
                                   {1536, 24}, {1664, 16}, {100, 0}, {128, 0}, {2048, 0}};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i)
        CHECK(ft__vit_heads(sizes[i][0]) == sizes[i][1], "%d features: %d heads", sizes[i][0],
              ft__vit_heads(sizes[i][0]));
}

/* ---- Readers' questions, each condition of them alone ---- */

/* A table of positions [1, 1 + 2 * 2, 8] fits a node [1, 1 + 3 * 3, 8], and no other. */
static void test_other_grid(void)
{
    static const struct { int rank, has[4], wants_rank, wants[4]; bool fits; } rows[] = {
        {3, {1, 5, 8}, 3, {1, 10, 8}, true}, {3, {1, 5, 6}, 3, {1, 10, 8}, false},
        {3, {2, 5, 8}, 3, {1, 10, 8}, false}, {3, {1, 5, 8}, 3, {2, 10, 8}, false},
        {2, {1, 5}, 3, {1, 10, 8}, false}, {3, {1, 5, 8}, 2, {1, 10}, false},
        {3, {1, 5, 8}, 3, {1, 12, 8}, false}};
    char name[] = "vit.embeddings.position_embeddings", other[] = "vit.embeddings.table";
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_tensor_info t;
        ft__node node;
        memset(&t, 0, sizeof t);
        memset(&node, 0, sizeof node);
        t.bytes = 160;
        t.shape.rank = rows[i].rank;
        node.shape.rank = rows[i].wants_rank;
        memcpy(t.shape.size, rows[i].has, sizeof rows[i].has);
        memcpy(node.shape.size, rows[i].wants, sizeof rows[i].wants);
        node.name = name;
        CHECK(ft__is_other_grid(&t, &node) == rows[i].fits, "table %d", (int)i);
        node.name = other;
        CHECK(!ft__is_other_grid(&t, &node), "table %d under another name", (int)i);
    }
}

/* [3, N, 4] reshaped: the batch stays where it can, and [2, 6 N] would mix samples. */
static void test_onnx_batch_axis(void)
{
    static const struct { double first, second; int in_first, in_second; bool found; } rows[] = {
        {3, 4, 0, 1, true}, {1, 12, 0, 1, true}, {3, 4, 1, 0, true}, {2, 6, 0, 1, false}, {5, 2.4, 0, 1, false}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft__onnx x;
        ft__onnx_value v, y;
        memset(&x, 0, sizeof x);
        memset(&v, 0, sizeof v);
        memset(&y, 0, sizeof y);
        v.rank = 3;
        v.batch = 1;
        v.size[0] = ft__onnx_known(3);
        v.size[1] = v.size[2] = ft__onnx_known(4);
        v.size[1].k = 1;
        v.size[1].n = 1;
        y.rank = 2;
        y.size[0] = ft__onnx_known(rows[i].first);
        y.size[0].n = rows[i].in_first;
        y.size[1] = ft__onnx_known(rows[i].second);
        y.size[1].n = rows[i].in_second;
        CHECK(ft__onnx_find_batch(&x, &v, &y) == rows[i].found, "shape %d: axis %d", (int)i, y.batch);
    }
}

int main(void)
{
    static const ft_optimizer_options optimizers[] = {
        {.optimizer = FT_ADAM}, {.optimizer = FT_ADAMW, .weight_decay = 0.1f},
        {.optimizer = FT_SGD}, {.optimizer = FT_SGD, .momentum = 0.9f}, {.optimizer = FT_ADAGRAD}};
    size_t i;
    int threads;
    for (i = 0; i < SAMPLES * 6; ++i) values[i] = (float)(i * 37 % 101) / 50.5f - 1;
    for (i = 0; i < SAMPLES; ++i) labels[i] = (int)i % CLASSES;
    test_other_grid();
    test_onnx_batch_axis();
    test_frozen(FT_SGD);
    test_frozen(FT_ADAM);
    test_frozen(FT_ADAMW);
    test_alone(8, false, "", 0);
    test_alone(8, false, "stem.*,bn2.*", 0);
    test_alone(32, false, "", 4);
    test_alone(8, true, "", 0);
    for (i = 0; i < sizeof optimizers / sizeof optimizers[0]; ++i)
        for (threads = 1; threads <= 5; threads += 2) test_resting(optimizers[i], threads);
    test_no_state();
    test_same_classes();
    test_many_nodes();
    test_documented();
    test_documented_onnx();
    test_written_as_onnx();
    test_no_digits();
    test_full_arena();
    test_plan_bytes();
    test_metrics();
    test_paired();
    test_heads();
    return check_done("test_internals");
}
