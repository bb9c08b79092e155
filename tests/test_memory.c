/* test_memory.c - what a stated budget does: values are made again in backward, to the same bits,
   or the run is refused; and ft_plan, which tells before a run what it will take. */
#include "check.h"

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { BATCH = 8, SIDE = 12, PIXELS = 3 * SIDE * SIDE, STEPS = 4 };

static float pictures[BATCH * PIXELS];
static int labels[BATCH];
static int again;           /* values that the log says are made again */
static bool with_state;     /* the network has an LSTM whose state is carried from step to step */
static int width = 8;       /* channels; from 32 on batch norms before convolutions are not kept */

static void read_log(void *user, const char *line)
{
    const char *at = strstr(line, ": ");
    (void)user;
    if (strstr(line, "made again in backward") && at) again = atoi(at + 2);
}

/* Two branches and a sum, thrice, with everything that keeps something for backward or that moves
   state: batch norm, dropout, pooling, several activations; and skips over a part. */
static void build(ft_model *m)
{
    ft_input_options picture = {.size = {3, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_pool2d_options pool = {.kernel = {2}, .stride = {1}};
    ft_batch_norm_options norm = {.eps = 0};
    ft_linear_options linear = {.no_bias = false};
    ft_activation_options none = {.slope = 0};
    ft_recurrent_options carried = {.carry = true};
    const int steps[] = {36, 32}, maps[] = {8, SIDE, SIDE}; /* of a width of 8 */
    ft_dropout_options drop = {.probability = 0.25f};
    ft_loss_options loss = {.label_smoothing = 0};
    static const char *const kinds[] = {"relu", "gelu", "tanh", "sigmoid", "silu", "relu6"};
    char name[40];
    ft_node x = ft_input(m, "input", picture), first, y;
    int i;
    x = ft_conv2d(m, "stem", x, width, conv);
    if (with_state) {
        x = ft_lstm(m, "lstm", ft_reshape(m, "steps", x, 2, steps), 32, carried);
        x = ft_reshape(m, "maps", x, 3, maps);
    }
    first = x;
    for (i = 0; i < 6; ++i) {
        snprintf(name, sizeof name, "conv%d", i);
        y = ft_conv2d(m, name, x, width, conv);
        snprintf(name, sizeof name, "bn%d", i);
        y = ft_batch_norm(m, name, y, norm);
        snprintf(name, sizeof name, "act%d", i);
        y = ft_activation(m, kinds[i], name, y, none);
        snprintf(name, sizeof name, "after%d", i);
        if (width > 8) y = ft_conv2d(m, name, y, width, conv);
        if (i & 1) y = ft_dropout(m, NULL, y, drop);
        x = ft_add(m, NULL, x, y);
        if (i == 3) x = ft_mul(m, NULL, x, first);
    }
    x = ft_max_pool2d(m, "pool", x, pool);
    x = ft_flatten(m, "flatten", ft_global_avg_pool(m, "average", x));
    x = ft_linear(m, "fc", x, 4, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
}

typedef struct outcome { uint64_t bits; size_t peak; ft_status status; int again, alone; }
    outcome;

static outcome train(size_t budget, const char *freeze)
{
    ft_desc desc = {.seed = 3, .threads = 2, .log = read_log};
    ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-3f};
    ft_model *m;
    outcome o;
    int i;
    memset(&o, 0, sizeof o);
    desc.memory_budget = budget;
    again = 0;
    m = ft_create(desc);
    build(m);
    ft_freeze(m, freeze);
    ft_set_optimizer(m, adam);
    for (i = 0; i < STEPS; ++i) {
        ft_feed(m, ft_find(m, "input"), pictures, BATCH);
        ft_feed(m, ft_find(m, "labels"), labels, BATCH);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_weight(&m->nodes[i]))
            o.bits = ft__hash_bytes(o.bits, m->nodes[i].value,
                                    ft__node_count_at(&m->nodes[i], ft__one) * sizeof(float));
    for (i = 0; m->plans[1] && i < m->plans[1]->step_count; ++i)
        o.alone += m->plans[1]->steps[i].alone > 0;
    o.peak = m->context.bytes_peak;
    o.status = ft_error(m);
    o.again = again;
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
    CHECK(whole.alone == (width > 8 ? 4 : 0), "%d batch norms are not kept: all but those before"
          " gelu and silu", whole.alone);
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
        ft_model *m;
        ft_digest digest;
        budget = part == 64 ? 0 : peak / 64 * (size_t)part;
        desc.memory_budget = budget;
        again = 0;
        m = ft_create(desc);
        build(m);
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
            peak = m->context.bytes_peak;
        } else {
            CHECK(digest.frozen == want, "a budget of %zu: other bits", budget);
            CHECK(m->context.bytes_peak <= budget, "a budget of %zu", budget);
            runs += again > 0;
        }
        ft_destroy(m);
    }
    CHECK(runs > 1, "%d fits made values again", runs);
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
        ft_desc desc = {.seed = 3};
        ft_status status;
        ft_model *m;
        size_t told = plan.total;
        /* none; what was told; half of it: too little; the least that was told then; once more */
        desc.memory_budget = i == 2 ? plan.parameters + plan.other / 2 + plan.activations / 4
            + plan.gradients + plan.optimizer + plan.workspace : i == 0 ? 0 : told;
        m = ft_create(desc);
        ft_network(m, network, options);
        plan = ft_plan(m, batch, training);
        status = i == 2 ? FT_MEMORY : FT_OK;
        CHECK(ft_error(m) == status, "%s, %d, budget %zu: ft_plan says \"%s\"", network, i,
              desc.memory_budget, ft_error_text(m));
        if (i == 2) {
            char least[32];
            snprintf(least, sizeof least, "of %zu, is needed", plan.total);
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
        } else if (i != 2) ft_run(m, values, batch, logits);
        CHECK(ft_error(m) == status, "%s, %d, budget %zu: the run says \"%s\"", network, i,
              desc.memory_budget, ft_error_text(m));
        CHECK(i == 2 || m->context.bytes_peak <= plan.total, "%s: told %zu, taken %zu", network,
              plan.total, m->context.bytes_peak);
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
            ft_desc desc = {.seed = 3, .memory_budget = round ? told : 0};
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
            if (run == 0) ft_run(m, values, batch, logits);
            if (run == 1) {
                ft_feed(m, input, values, batch);
                ft_feed(m, ft_find(m, "labels"), of_class, batch);
                ft_forward(m, false);
            }
            if (run > 1) data = ft_arrays(m, 16, values, of_class, (ft_array_options){.classes = 4});
            if (run == 2) ft_evaluate(m, data, (ft_evaluate_options){.batch_size = batch});
            if (run == 3) ft_fit(m, data, (ft_fit_options){.epochs = 1, .batch_size = batch});
            least = strstr(ft_error_text(m), "memory_budget, of ");
            if (run > 1 && round == 1 && least) told = strtoull(least + 18, NULL, 10);
            else CHECK(ft_error(m) == FT_OK, "%s, %s, %zu bytes: %s", network, runs[run], told,
                       ft_error_text(m));
            CHECK(!round || m->context.bytes_peak <= desc.memory_budget, "%s: %zu, %zu taken",
                  network, desc.memory_budget, m->context.bytes_peak);
            ft_destroy(m);
        }
}

/* ---- ft_plan against what an allocator of our own counts ---- */
typedef struct counter { size_t now, most; } counter;

static void *count_allocate(void *user, size_t bytes, size_t alignment)
{
    counter *c = (counter *)user;
    c->now += bytes;
    if (c->now > c->most) c->most = c->now;
    return ft__default_allocate(NULL, bytes, alignment);
}

static void count_release(void *user, void *memory, size_t bytes)
{
    ((counter *)user)->now -= bytes;
    ft__default_release(NULL, memory, bytes);
}

static void test_plan(const char *network, int side, int batch, const char *freeze)
{
    counter counted = {0, 0};
    ft_desc desc = {.seed = 3};
    ft_network_options options = {0};
    ft_optimizer_options adam = {.optimizer = FT_ADAM};
    ft_plan_bytes plan;
    ft_model *m;
    float *values = (float *)calloc((size_t)(batch * 3 * side * side), sizeof *values);
    int *of_class = (int *)calloc((size_t)batch, sizeof *of_class);
    desc.allocator.user = &counted;
    desc.allocator.allocate = count_allocate;
    desc.allocator.release = count_release;
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
    CHECK(fabs((double)plan.total / (double)counted.most - 1) < 0.05,
          "%s: ft_plan told %zu bytes, %zu were taken", network, plan.total, counted.most);
    printf("%s, batch %d: %zu parameters, %zu gradients, %zu optimiser, %zu values, %zu workspace;"
           " %zu in all, %zu taken\n", network, batch, plan.parameters, plan.gradients,
           plan.optimizer, plan.activations, plan.workspace, plan.total, counted.most);
    ft_destroy(m);
    CHECK(counted.now == 0, "%zu bytes were not released", counted.now);
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

int main(void)
{
    unsigned state = 9;
    int i;
    test_tiny_budget();
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
