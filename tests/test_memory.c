/* test_memory.c - a memory budget: values are recomputed in backward, to the same bits, or the run
   is refused; and ft_plan, which returns the memory that a run will need. */
#include "public.h"
#include "branches.h"

enum { BATCH = 8, STEPS = 4 };

static float pictures[BATCH * PIXELS];
static int labels[BATCH];
static int again;           /* values that the log says are recomputed */
static bool with_state;     /* see branches.h */
static int width = 8;

static void read_log(void *user, const char *line)
{
    const char *at = strstr(line, ": ");
    (void)user;
    if (strstr(line, "recomputed in backward") && at) again = atoi(at + 2);
}

typedef struct outcome { uint64_t bits; size_t peak; ft_status status; int again; } outcome;

static outcome train(size_t budget, const char *freeze)
{
    ft_desc desc = {.seed = 3, .threads = 2, .log = read_log};
    ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-3f};
    memory_count taken = {0};
    ft_model *m;
    outcome o;
    int i;
    memset(&o, 0, sizeof o);
    desc.memory_budget = budget;
    desc.allocator = counting(&taken);
    again = 0;
    m = ft_create(desc);
    build_branches(m, width, with_state);
    ft_freeze(m, freeze);
    ft_set_optimizer(m, adam);
    for (i = 0; i < STEPS; ++i) {
        ft_feed(m, ft_find(m, "input"), pictures, BATCH);
        ft_feed(m, ft_find(m, "labels"), labels, BATCH);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    o.peak = taken.most;
    o.status = ft_error(m);
    o.again = again;
    if (o.status == FT_OK) o.bits = fingerprint(m);
    if (o.status) CHECK(o.status == FT_MEMORY && strstr(ft_error_text(m), "budget"), "%s",
                        ft_error_text(m));
    ft_destroy(m);
    return o;
}

static void test_budgets(const char *freeze, double share)
{
    outcome whole = train(0, freeze), o = whole;
    size_t budget, least = whole.peak;
    int runs = 0, most = 0;
    CHECK(whole.status == FT_OK && whole.again == 0, "without a budget: %d", (int)whole.status);
    for (budget = whole.peak; budget > whole.peak / 4; budget -= whole.peak / 64) {
        o = train(budget, freeze);
        CHECK(o.peak <= budget, "a budget of %zu, but %zu were taken", budget, o.peak);
        if (o.status) break;
        CHECK(o.bits == whole.bits, "a budget of %zu, %d made again: other bits", budget, o.again);
        CHECK(budget == whole.peak || o.again > 0 || o.peak < whole.peak, "nothing made again");
        least = budget;
        runs += o.again > 0;
        if (o.again > most) most = o.again;
    }
    CHECK(runs > 3 && most > 4, "%d runs made values again, %d at the most", runs, most);
    CHECK(o.status == FT_MEMORY, "too little is refused");
    CHECK((double)least < share * (double)whole.peak, "the least budget is %zu of %zu", least,
          whole.peak);
    printf("frozen \"%s\": %zu bytes, at the least %zu\n", freeze, whole.peak, least);
}

/* A whole fit: what it takes besides the plan is left room for, or it is refused at the start. */
static void test_fit_budgets(void)
{
    ft_fit_options fit = {.epochs = 2, .batch_size = BATCH / 2, .hold_back = 0.25f};
    ft_array_options arrays = {.classes = 4};
    uint64_t want = 0;
    size_t peak = 0, budget;
    int runs = 0, part;
    for (part = 64; part > 16; part -= 4) {
        ft_desc desc = {.seed = 3, .threads = 1, .log = read_log};
        memory_count taken = {0};
        ft_model *m;
        ft_digest digest;
        budget = part == 64 ? 0 : peak / 64 * (size_t)part;
        desc.memory_budget = budget;
        desc.allocator = counting(&taken);
        again = 0;
        m = ft_create(desc);
        build_branches(m, width, with_state);
        ft_fit(m, ft_arrays(m, BATCH, pictures, labels, arrays), fit);
        if (ft_error(m)) {
            CHECK(ft_error(m) == FT_MEMORY, "%s", ft_error_text(m));
            ft_destroy(m);
            break;
        }
        ft_freeze(m, "*");
        digest = ft_frozen_digest(m);
        if (part == 64) {
            want = digest.frozen;
            peak = taken.most;
        } else {
            CHECK(digest.frozen == want, "a budget of %zu: other bits", budget);
            CHECK(taken.most <= budget, "a budget of %zu", budget);
            runs += again > 0;
        }
        ft_destroy(m);
    }
    CHECK(runs > 1, "%d fits made values again", runs);
}

/* How many numbers ft_run gives. */
static size_t outputs_of(const ft_model *m, int batch)
{
    size_t count = (size_t)batch * numbers_of(m, ft_output(m));
    ft_shape shape = ft_node_shape(m, ft_output(m));
    return shape.size[1] == FT_LENGTH ? count * (size_t)ft_length(m) : count;
}

/* What ft_plan tells is enough as a budget, to train and to predict; with less, it tells the least
   that would do, and that is enough. */
static void test_plan_as_budget(const char *network, int side, int batch, bool training)
{
    ft_network_options options = {0};
    ft_plan_bytes plan = {0};
    float *values = (float *)calloc((size_t)(batch * 3 * side * side), sizeof *values);
    float *logits = (float *)calloc((size_t)batch * 1000, sizeof *logits);
    int *of_class = (int *)calloc((size_t)batch, sizeof *of_class), i;
    for (i = 0; i < 5; ++i) {
        memory_count taken = {0};
        ft_desc desc = {.seed = 3};
        ft_status status;
        ft_model *m;
        size_t told = plan.total;
        desc.allocator = counting(&taken);
        /* none; what was told; half of it: too little; the least that was told then; once more.
           Of a prediction's workspace most are prepared weights, which it can do without. */
        desc.memory_budget = i == 2 ? plan.parameters + plan.other / 2 + plan.activations / 4
            + plan.gradients + plan.optimizer + (training ? plan.workspace : 0) : i == 0 ? 0 : told;
        m = ft_create(desc);
        ft_network(m, network, options);
        plan = ft_plan(m, batch, training);
        status = i == 2 ? FT_MEMORY : FT_OK;
        CHECK(ft_error(m) == status, "%s, %d, budget %zu: ft_plan says \"%s\"", network, i,
              desc.memory_budget, ft_error_text(m));
        if (i == 2) {
            char least[32];
            snprintf(least, sizeof least, "memory_budget of %zu", plan.total);
            CHECK(strstr(ft_error_text(m), least), "%s", ft_error_text(m));
            CHECK(plan.total > desc.memory_budget && plan.total <= told, "%zu", plan.total);
        }
        CHECK(i == 0 || i == 2 || plan.total <= told, "%s, %d: %zu, not %zu", network, i,
              plan.total, told);
        if (training && i != 2) {
            ft_feed(m, ft_find(m, "input"), values, batch);
            ft_feed(m, ft_find(m, "labels"), of_class, batch);
            ft_forward(m, true);
            ft_backward(m);
            ft_update(m, 1e-3f);
        } else if (i != 2) ft_run(m, values, batch, logits, outputs_of(m, batch));
        CHECK(ft_error(m) == status, "%s, %d, budget %zu: the run says \"%s\"", network, i,
              desc.memory_budget, ft_error_text(m));
        CHECK(i == 2 || taken.most <= plan.total, "%s: told %zu, taken %zu", network, plan.total,
              taken.most);
        ft_destroy(m);
    }
    free(values);
    free(logits);
    free(of_class);
}

/* Of sequences too, whose carried states grow with the batch: what ft_plan tells of inference is
   exactly enough, and the figure that a refused evaluation or training names is. */
static void test_told_figures(const char *network, int batch, int length, const char *freeze)
{
    static const char *const runs[] = {"ft_run", "forward", "ft_evaluate", "ft_fit"};
    static float values[16 * 3 * 32 * 32], logits[16 * 20 * 100];
    static int of_class[16];
    size_t told = 0, run, round;
    for (run = 0; run < (length ? 1 : 4); ++run) /* arrays are no texts */
        for (round = 0; round < 3; ++round) { /* plan; the plan's figure; what its error names */
            memory_count taken = {0};
            ft_desc desc = {.seed = 3, .memory_budget = round ? told : 0,
                            .allocator = counting(&taken)};
            ft_network_options options = {.words = 100};
            ft_model *m = ft_create(desc);
            ft_node input;
            ft_data *data;
            const char *least;
            ft_network(m, network, options);
            if (length) ft_set_length(m, length);
            ft_freeze(m, freeze);
            input = ft_find(m, "input");
            if (round == 0) told = ft_plan(m, batch, run == 3).total;
            if (run == 0) ft_run(m, values, batch, logits, outputs_of(m, batch));
            if (run == 1) {
                ft_feed(m, input, values, batch);
                ft_feed(m, ft_find(m, "labels"), of_class, batch);
                ft_forward(m, false);
            }
            if (run > 1) data = ft_arrays(m, 16, values, of_class, (ft_array_options){.classes = 4});
            if (run == 2) ft_evaluate(m, data, (ft_evaluate_options){.batch_size = batch});
            if (run == 3) ft_fit(m, data, (ft_fit_options){.epochs = 1, .batch_size = batch});
            least = strstr(ft_error_text(m), "memory_budget of ");
            if (run > 1 && round == 1 && least) told = strtoull(least + 17, NULL, 10);
            else CHECK(ft_error(m) == FT_OK, "%s, %s, %zu bytes: %s", network, runs[run], told,
                       ft_error_text(m));
            CHECK(!round || taken.most <= desc.memory_budget, "%s: %zu, %zu taken", network,
                  desc.memory_budget, taken.most);
            ft_destroy(m);
        }
}

/* ft_plan against what the allocator counts. */
static void test_plan(const char *network, int side, int batch, const char *freeze)
{
    memory_count taken = {0};
    ft_desc desc = {.seed = 3};
    ft_network_options options = {0};
    ft_optimizer_options adam = {.optimizer = FT_ADAM};
    ft_plan_bytes plan;
    ft_model *m;
    float *values = (float *)calloc((size_t)(batch * 3 * side * side), sizeof *values);
    int *of_class = (int *)calloc((size_t)batch, sizeof *of_class);
    desc.allocator = counting(&taken);
    m = ft_create(desc);
    ft_network(m, network, options);
    ft_freeze(m, freeze);
    ft_set_optimizer(m, adam);
    plan = ft_plan(m, batch, true);
    ft_feed(m, ft_find(m, "input"), values, batch);
    ft_feed(m, ft_find(m, "labels"), of_class, batch);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 1e-3f);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(fabs((double)plan.total / (double)taken.most - 1) < 0.05,
          "%s: ft_plan told %zu bytes, %zu were taken", network, plan.total, taken.most);
    printf("%s, batch %d: %zu parameters, %zu gradients, %zu optimiser, %zu values, %zu workspace;"
           " %zu in all, %zu taken\n", network, batch, plan.parameters, plan.gradients,
           plan.optimizer, plan.activations, plan.workspace, plan.total, taken.most);
    ft_destroy(m);
    CHECK(taken.bytes == 0, "%zu bytes were not released", taken.bytes);
    free(values);
    free(of_class);
}

/* A budget that is too small for the model itself is an error that names it, not NULL. */
static void test_tiny_budget(void)
{
    ft_desc desc = {.memory_budget = 1000};
    ft_model *m = ft_create(desc);
    ft_network_options o = {.classes = 2};
    CHECK(m != NULL, "no model");
    ft_network(m, "resnet20", o);
    CHECK(ft_error(m) == FT_MEMORY && strstr(ft_error_text(m), "budget"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A parameter or constant that cannot be made is not in the network, which runs on after the error. */
static void test_half_made(void)
{
    static const float numbers[] = {1, 2};
    static const int sizes[] = {2}, wrong[] = {0};
    float x[3] = {1, 2, 3}, y[2];
    int constant, n, nodes;
    for (constant = 0; constant < 2; ++constant) {
        bool failed = true;
        for (n = 1; failed; ++n) {
            memory_count taken = {0};
            ft_model *m = ft_create((ft_desc){.threads = 1, .allocator = counting(&taken)});
            ft_set_output(m, ft_linear(m, "fc", add_input(m, "x", FT_F32, 3, 0, 0), 2, (ft_linear_options){0}));
            nodes = ft_node_count(m);
            taken.fail_at = taken.calls + n;
            if (constant) ft_constant(m, "more", 1, sizes, numbers);
            else ft_parameter(m, "more", (ft_parameter_options){.size = {2}});
            taken.fail_at = 0;
            failed = ft_error(m) == FT_MEMORY;
            ft_clear_error(m);
            CHECK(ft_node_count(m) == nodes + !failed && (ft_find(m, "more").id != 0) == !failed, "allocation %d: %d nodes",
                  n, ft_node_count(m));
            CHECK(ft_run(m, x, 1, y, 2) == FT_OK, "allocation %d: %s", n, ft_error_text(m));
            if (constant) ft_constant(m, "wrong", 1, wrong, numbers);
            else ft_parameter(m, "wrong", (ft_parameter_options){0});
            CHECK(ft_error(m) == FT_INVALID && !ft_find(m, "wrong").id, "%s", ft_error_text(m));
            ft_clear_error(m);
            CHECK(ft_parameter(m, "wrong", (ft_parameter_options){.size = {2}}).id && ft_run(m, x, 1, y, 2) == FT_OK,
                  "its name is taken: %s", ft_error_text(m));
            ft_destroy(m);
            CHECK(taken.blocks == 0, "allocation %d: %ld blocks are left", n, taken.blocks);
        }
        CHECK(n > 3, "%d allocations", n);
    }
}

/* A chain needs room for two values at a time in inference, however long it is; in training each
   layer's value is kept. */
static void test_chain(void)
{
    enum { WIDTH = 1000, ROWS = 16, VALUE = WIDTH * ROWS * (int)sizeof(float) };
    size_t inference = 0, training = 0;
    int layers, i;
    for (layers = 4; layers <= 16; layers += 12) {
        ft_model *m = ft_create((ft_desc){.seed = 1, .threads = 1});
        ft_node x = ft_input(m, "input", (ft_input_options){.size = {WIDTH}});
        ft_node wanted = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
        char name[16];
        for (i = 0; i < layers; ++i) {
            snprintf(name, sizeof name, "fc%d", i);
            x = ft_linear(m, name, x, WIDTH, (ft_linear_options){0});
        }
        ft_set_output(m, x);
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, wanted, (ft_loss_options){0}));
        inference = ft_plan(m, ROWS, false).activations;
        CHECK(inference >= VALUE && inference < 4 * VALUE, "%d layers: %zu bytes, a value has %d", layers,
              inference, (int)VALUE);
        training = ft_plan(m, ROWS, true).activations;
        CHECK(training >= (size_t)layers * VALUE && training < ((size_t)layers + 5) * VALUE,
              "%d layers: %zu bytes, a value has %d", layers, training, (int)VALUE);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

int main(void)
{
    unsigned state = 9;
    int i;
    test_tiny_budget();
    test_half_made();
    test_chain();
    for (i = 0; i < BATCH * PIXELS; ++i) {
        state = state * 1664525u + 1013904223u;
        pictures[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    for (i = 0; i < BATCH; ++i) labels[i] = i % 4;
    test_budgets("", 0.85);
    test_budgets("stem.*,bn2.*", 0.85);
    test_fit_budgets();
    width = 32;
    test_budgets("", 0.9);
    width = 8;
    test_plan_as_budget("keras_cnn", 32, 32, true);
    test_plan_as_budget("keras_cnn", 32, 32, false);
    test_plan_as_budget("resnet18", 224, 2, true);
    test_plan_as_budget("resnet18", 224, 2, false);
    test_told_figures("keras_cnn", 8, 0, "");
    test_told_figures("resnet20", 1, 0, "");
    test_told_figures("resnet20", 3, 0, "conv1*,bn1*,layer[12]*");
    test_told_figures("char_rnn", 4, 17, "");
    test_told_figures("lstm_lm", 5, 20, "");
    test_told_figures("lstm_classifier", 3, 20, "");
    with_state = true;
    test_budgets("", 0.9);
    test_plan("resnet18", 224, 16, "");
    test_plan("resnet18", 224, 16, "conv1*,bn1*,layer[1-3]*");
    test_plan("keras_cnn", 32, 32, "");
    return check_done("test_memory");
}
