/* test_fit.c - what the manual promises: frozen, frozen prefix, inference form, deterministic,
   resume; and what may go wrong in a run: NaN, no memory, a budget, a caller that stops it.
       build/test_fit threads     only the runs with several threads, for a thread sanitizer */
#include "public.h"
#include "log.h"
#include "goldens.h"

enum { SAMPLES = 90, CLASSES = 3, SIDE = 8, PIXELS = 2 * SIDE * SIDE };

static float pictures[SAMPLES * PIXELS];
static int labels[SAMPLES];

static double random_number(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / 16777216.0;
}

/* Three kinds of pictures: stripes across, stripes down, and a bright middle, with noise. */
static void make_pictures(void)
{
    unsigned state = 7;
    int s, i;
    for (s = 0; s < SAMPLES; ++s) {
        labels[s] = s % CLASSES;
        for (i = 0; i < PIXELS; ++i) {
            int y = i / SIDE % SIDE, x = i % SIDE;
            double value = labels[s] == 0 ? y & 1 : labels[s] == 1 ? x & 1
                         : (x > 1 && x < 6 && y > 1 && y < 6);
            pictures[s * PIXELS + i] = (float)(value + 1.5 * (random_number(&state) - 0.5));
        }
    }
}

/* conv1-bn1-relu1-conv2-bn2-relu2-pool-fc1-relu3-drop-fc2, with a loss */
static void build(ft_model *m)
{
    ft_input_options picture = {.size = {2, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_batch_norm_options norm = {.eps = 0};
    ft_linear_options linear = {.no_bias = false};
    ft_activation_options none = {.slope = 0};
    ft_dropout_options drop = {.probability = 0.25f};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_node x = ft_input(m, "input", picture);
    x = ft_conv2d(m, "conv1", x, 5, conv);
    x = ft_batch_norm(m, "bn1", x, norm);
    x = ft_activation(m, "relu", "relu1", x, none);
    x = ft_conv2d(m, "conv2", x, 6, conv);
    x = ft_batch_norm(m, "bn2", x, norm);
    x = ft_activation(m, "relu", "relu2", x, none);
    x = ft_flatten(m, "flatten", ft_global_avg_pool(m, "pool", x));
    x = ft_linear(m, "fc1", x, 16, linear);
    x = ft_activation(m, "relu", "relu3", x, none);
    x = ft_dropout(m, "drop", x, drop);
    x = ft_linear(m, "fc2", x, CLASSES, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
}

static ft_model *new_model(ft_desc desc)
{
    ft_model *m = ft_create(desc);
    if (m) build(m);
    return m;
}

static ft_data *new_data(ft_model *m)
{
    ft_array_options options = {.classes = CLASSES};
    return ft_arrays(m, SAMPLES, pictures, labels, options);
}

static ft_fit_options quick(int epochs)
{
    ft_fit_options o;
    memset(&o, 0, sizeof o);
    o.epochs = epochs;
    o.batch_size = 16;
    o.optimizer.learning_rate = 0.01f;
    o.optimizer.weight_decay = 0.01f;
    return o;
}

/* The first pictures and labels; 0: they are not fed. */
static void feed(ft_model *m, int inputs, int classes)
{
    if (inputs) ft_feed(m, ft_find(m, "input"), pictures, inputs);
    if (classes) ft_feed(m, ft_find(m, "labels"), labels, classes);
}

static void copy_weight(ft_model *m, const char *name, float *to)
{
    ft_node node = ft_find(m, name);
    CHECK(node.id > 0, "%s is a node", name);
    ft_get(m, node, to, numbers_of(m, node));
}

/* The model is in error with this status, and its text has both words; then it is cleared. */
static void expect(ft_model *m, ft_status status, const char *one, const char *two)
{
    CHECK(ft_error(m) == status && strstr(ft_error_text(m), one) && strstr(ft_error_text(m), two),
          "%s: \"%s\" lacks \"%s\" or \"%s\"", ft_status_name(ft_error(m)), ft_error_text(m), one,
          two);
    ft_clear_error(m);
}

/* ---- Frozen ---- */

static void test_frozen(ft_optimizer optimizer)
{
    static const char *const frozen[] = {"conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias",
                                         "bn1.running_mean", "bn1.running_var", "fc1.weight"};
    float before[7][512], after[512];
    ft_desc desc = {.seed = 3};
    ft_model *m = new_model(desc);
    ft_fit_options o = quick(10);
    ft_digest digest;
    ft_fit_result r;
    int i;
    memset(before, 0, sizeof before);
    memset(after, 0, sizeof after);
    o.optimizer.optimizer = optimizer;
    if (optimizer == FT_SGD) o.optimizer.momentum = 0.9f;
    if (optimizer == FT_SGD) o.optimizer.learning_rate = 0.1f;
    CHECK(ft_freeze(m, "conv1*,bn1.weight,bn1.bias,fc1.weight") == 5, "five tensors match");
    digest = ft_frozen_digest(m);
    CHECK(digest.tensors == 7, "%d tensors in the digest, the norm's statistics among them",
          digest.tensors);
    for (i = 0; i < 7; ++i) copy_weight(m, frozen[i], before[i]);
    r = ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(r.before.frozen == r.after.frozen && r.after.frozen == digest.frozen, "same digest");
    CHECK(ft_frozen_digest(m).frozen == digest.frozen, "same digest afterwards");
    for (i = 0; i < 7; ++i) {
        ft_node node = ft_find(m, frozen[i]);
        copy_weight(m, frozen[i], after);
        CHECK(memcmp(before[i], after, numbers_of(m, node) * sizeof(float)) == 0, "%s moved",
              frozen[i]);
        ft_get_gradient(m, node, after, numbers_of(m, node));
        expect(m, FT_INVALID, frozen[i], strstr(frozen[i], "running")
               ? "has no gradient: it is not a parameter" : "has no gradient: it is frozen");
    }
    copy_weight(m, "bn2.running_mean", after);
    CHECK(after[0] != 0, "the statistics of what is not frozen are learnt");
    CHECK(r.accuracy > 0.8, "it learns: %.3f right", r.accuracy);
    ft_unfreeze(m, "*");
    CHECK(ft_frozen_digest(m).tensors == 0, "nothing is frozen any more");
    ft_destroy(m);
}

/* A frozen norm behind something trained must run in evaluation form too. */
static void test_frozen_norm_in_the_middle(void)
{
    float mean[6], after[6];
    ft_desc desc = {.seed = 3};
    ft_model *m = new_model(desc);
    ft_freeze(m, "bn2.weight,bn2.bias");
    copy_weight(m, "bn2.running_mean", mean);
    ft_fit(m, new_data(m), quick(2));
    copy_weight(m, "bn2.running_mean", after);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(memcmp(mean, after, sizeof mean) == 0, "statistics of a frozen norm drifted");
    ft_destroy(m);
}

/* A dropout that is active changes nothing: there is nothing to train. */
static void test_all_frozen(void)
{
    static const char *const frozen[] = {"*", "*.weight,*.bias"};
    int i, by_hand, label = 1;
    for (i = 0; i < 4; ++i) {
        ft_desc desc = {.seed = 3};
        ft_model *m = new_model(desc);
        ft_freeze(m, frozen[i / 2]);
        by_hand = i % 2;
        if (by_hand) {
            ft_feed(m, ft_find(m, "input"), pictures, 1);
            ft_feed(m, ft_find(m, "labels"), &label, 1);
            ft_forward(m, true);
            ft_backward(m);
        } else ft_fit(m, new_data(m), quick(1));
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "nothing to train"),
              "training with all frozen: %s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Frozen prefix, inference form, determinism ---- */

static uint64_t fit_and_hash(ft_desc desc, const char *freeze, ft_fit_options o)
{
    ft_model *m = new_model(desc);
    uint64_t hash;
    ft_freeze(m, freeze);
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    hash = fingerprint(m);
    ft_destroy(m);
    return hash;
}

static void test_same_bits(void)
{
    static const int threads[] = {1, 2, 5};
    ft_fit_options o = quick(3), uncached;
    uint64_t first[2] = {0, 0}, hash;
    int i, frozen;
    o.hold_back = 0.2f;
    uncached = o;
    uncached.no_cache = true;
    for (frozen = 0; frozen < 2; ++frozen)
        for (i = 0; i < 3; ++i) {
            const char *freeze = frozen ? "conv*,bn*" : "";
            ft_desc desc = {.seed = 11};
            desc.threads = threads[i];
            hash = fit_and_hash(desc, freeze, o);
            if (i == 0) first[frozen] = hash;
            CHECK(hash == first[frozen], "%d threads, frozen %d: other bits", threads[i], frozen);
            CHECK(fit_and_hash(desc, freeze, uncached) == hash, "without the cache: other bits");
            desc.seed = 12;
            CHECK(fit_and_hash(desc, freeze, o) != hash, "another seed gives another run");
        }
    CHECK(first[0] != first[1], "freezing makes a difference");
}

static void test_batch_independence(void)
{
    float together[7 * CLASSES], alone[CLASSES];
    ft_desc desc = {.seed = 5};
    ft_model *m = new_model(desc);
    int i;
    ft_fit(m, new_data(m), quick(1));
    ft_run(m, pictures, 7, together, 7 * CLASSES);
    for (i = 0; i < 7; ++i) {
        ft_run(m, pictures + i * PIXELS, 1, alone, CLASSES);
        CHECK(memcmp(alone, together + i * CLASSES, sizeof alone) == 0,
              "sample %d: its bits depend on the batch", i);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Resume ---- */

typedef struct stopper { int calls, stop_at; } stopper;

static bool stop_somewhere(void *user, const ft_progress *progress)
{
    stopper *s = (stopper *)user;
    return progress->preparing || ++s->calls != s->stop_at; /* of steps and epochs */
}

/* A run that is left alone, and one that is abandoned after each `stride` reports, of strides that
   begin at `from`. */
static void check_resume(const char *freeze, ft_fit_options o, int from)
{
    const char *path = "build/test_fit.checkpoint";
    ft_desc desc = {.seed = 21};
    uint64_t want;
    int stride, rounds;
    want = fit_and_hash(desc, freeze, o);
    o.checkpoint = path;
    o.checkpoint_steps = 1;
    for (stride = from; stride <= 7; stride += 2) {
        ft_model *m = NULL;
        ft_fit_result r;
        memset(&r, 0, sizeof r);
        remove(path);
        for (rounds = 0; rounds < 60; ++rounds) {
            stopper s = {0, 0};
            s.stop_at = stride;
            o.progress = stop_somewhere;
            o.progress_user = &s;
            ft_destroy(m);
            m = new_model(desc);
            ft_freeze(m, freeze);
            r = ft_fit(m, new_data(m), o);
            if (ft_error(m) || !r.stopped) break;
        }
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        CHECK(!r.stopped && rounds > 1, "%d rounds, stopped %d", rounds, r.stopped);
        CHECK(fingerprint(m) == want, "stopped every %d reports: other weights", stride);
        ft_destroy(m);
    }
    remove(path);
}

static void test_resume(bool best, const char *freeze, int most_steps)
{
    ft_fit_options o = quick(4);
    o.hold_back = 0.2f;
    o.best = best;
    if (best) o.metric = FT_METRIC_RECALL_MACRO; /* what the best epoch had is in the checkpoint */
    o.schedule = FT_ONE_CYCLE;
    o.most_steps = most_steps;
    check_resume(freeze, o, 1);
}

/* The state of optimisers whose steps depend on more than Adam's do. */
static void test_resume_of_optimizers(void)
{
    static const ft_optimizer kinds[] = {FT_NADAM, FT_ADAFACTOR, FT_RMSPROP};
    int i;
    for (i = 0; i < 3; ++i) {
        ft_fit_options o = quick(3);
        o.optimizer.optimizer = kinds[i];
        if (kinds[i] == FT_RMSPROP) o.optimizer.momentum = 0.5f;
        check_resume("", o, 5);
    }
}

/* Ten steps of a linear layer on one batch are PyTorch's with OneCycleLR, which moves the momentum too. */
static void test_one_cycle(void)
{
    static const struct { const char *name; ft_optimizer optimizer; float momentum, decay; bool fixed; } rows[] = {
        {"adamw", FT_ADAMW, 0, 0.1f, false}, {"adamw_fixed", FT_ADAMW, 0, 0.1f, true},
        {"radam", FT_RADAM, 0, 0, false}, {"sgd", FT_SGD, 0.9f, 0, false}};
    float x[16 * 5], t[16 * 3], weight[15], bias[3], want[15];
    ft_model *files = ft_create((ft_desc){0});
    ft_file *golden = open_golden(files, "one_cycle");
    size_t i;
    golden_numbers(golden, "", "x", x, sizeof x);
    golden_numbers(golden, "", "t", t, sizeof t);
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_model *m = ft_create((ft_desc){.threads = 1});
        ft_node y = ft_linear(m, "y", add_input(m, "input", FT_F32, 5, 0, 0), 3, (ft_linear_options){0});
        ft_fit_options o = {.epochs = 10, .batch_size = 16, .schedule = FT_ONE_CYCLE, .fixed_momentum = rows[i].fixed};
        o.optimizer = (ft_optimizer_options){.optimizer = rows[i].optimizer, .learning_rate = 0.1f,
                                             .momentum = rows[i].momentum, .weight_decay = rows[i].decay};
        ft_set_output(m, y);
        ft_set_loss(m, ft_mse(m, "loss", y, add_input(m, "target", FT_F32, 3, 0, 0)));
        golden_numbers(golden, "", "weight", weight, sizeof weight);
        golden_numbers(golden, "", "bias", bias, sizeof bias);
        ft_set(m, ft_find(m, "y.weight"), weight, 15);
        ft_set(m, ft_find(m, "y.bias"), bias, 3);
        ft_fit(m, ft_arrays(m, 16, x, NULL, (ft_array_options){.targets = t, .target_size = 3}), o);
        ft_get(m, ft_find(m, "y.weight"), weight, 15);
        ft_get(m, ft_find(m, "y.bias"), bias, 3);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        golden_numbers(golden, rows[i].name, "weight", want, sizeof want);
        compare_golden(rows[i].name, weight, want, 15, 1e-5);
        golden_numbers(golden, rows[i].name, "bias", want, sizeof want);
        compare_golden(rows[i].name, bias, want, 3, 1e-5);
        ft_destroy(m);
    }
    ft_file_close(golden);
    ft_destroy(files);
}

/* Sample i is word i, whose vector should become i / 4 everywhere; notes the order that a run reads in:
   after an epoch its first batch again, ahead of time. */
enum { CYCLED_WORDS = 12, CYCLED_SIZE = 3, CYCLED_EPOCHS = 4, CYCLED_READS = CYCLED_WORDS + 2 };
typedef struct cycled_order { int index[CYCLED_READS * CYCLED_EPOCHS], count; } cycled_order;

static bool get_cycled_word(void *user, int index, int view, ft_slot *slots, int count)
{
    cycled_order *order = (cycled_order *)user;
    int s, i;
    (void)view;
    if (order->count < CYCLED_READS * CYCLED_EPOCHS) order->index[order->count++] = index;
    for (s = 0; s < count; ++s)
        if (!strcmp(slots[s].name, "tokens")) *(int32_t *)slots[s].values = index;
        else for (i = 0; i < CYCLED_SIZE; ++i) ((float *)slots[s].values)[i] = (float)index / 4;
    return true;
}

/* One-cycle over an embedding, most of whose rows rest in each step: against AdamW in double, of all
   rows in every step, with a momentum that changes from step to step. */
static void test_one_cycle_of_words(void)
{
    enum { STEPS = CYCLED_WORDS / 2 * CYCLED_EPOCHS, NUMBERS = CYCLED_WORDS * CYCLED_SIZE };
    cycled_order order = {{0}, 0};
    ft_source source = {.user = &order, .count = CYCLED_WORDS, .get = get_cycled_word};
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 3});
    ft_node x = ft_embedding(m, "words", add_input(m, "tokens", FT_I32, 1, 0, 0), CYCLED_WORDS, CYCLED_SIZE,
                             (ft_embedding_options){0});
    ft_fit_options o = {.epochs = CYCLED_EPOCHS, .batch_size = 2, .schedule = FT_ONE_CYCLE,
                        .optimizer = {.learning_rate = 0.05f, .weight_decay = 0.1f}};
    double w[NUMBERS], first[NUMBERS] = {0}, second[NUMBERS] = {0};
    float got[NUMBERS];
    int step, i;
    ft_set_output(m, x);
    ft_set_loss(m, ft_mse(m, "loss", x, add_input(m, "target", FT_F32, 1, CYCLED_SIZE, 0)));
    ft_get(m, ft_find(m, "words.weight"), got, NUMBERS);
    for (i = 0; i < NUMBERS; ++i) w[i] = (double)got[i];
    ft_fit(m, ft_data_source(m, source), o);
    CHECK(ft_error(m) == FT_OK && order.count == CYCLED_READS * CYCLED_EPOCHS, "%d samples: %s", order.count,
          ft_error_text(m));
    for (step = 0; step < STEPS; ++step) {
        double rate = 0.05 * (double)ft_schedule_factor(FT_ONE_CYCLE, step, STEPS, 0, 0, 0), top = 0.3 * STEPS - 1;
        double share = step <= top ? step / top : (STEPS - 1 - step) / (STEPS - 1 - top);
        const int *read = order.index + step / (CYCLED_WORDS / 2) * CYCLED_READS + 2 * (step % (CYCLED_WORDS / 2));
        double beta1 = 0.85 + 0.1 * (0.5 + 0.5 * cos(3.14159265358979 * share));
        for (i = 0; i < NUMBERS; ++i) {
            int word = i / CYCLED_SIZE;
            bool used = read[0] == word || read[1] == word;
            double g = used ? 2 * (w[i] - word / 4.0) / (2 * CYCLED_SIZE) : 0;
            first[i] = beta1 * first[i] + (1 - beta1) * g;
            second[i] = 0.999 * second[i] + 0.001 * g * g;
            w[i] -= rate * 0.1 * w[i];
            w[i] -= rate * first[i] / (1 - pow(beta1, step + 1))
                / (sqrt(second[i] / (1 - pow(0.999, step + 1))) + 1e-8);
        }
    }
    ft_get(m, ft_find(m, "words.weight"), got, NUMBERS);
    for (i = 0; i < NUMBERS; ++i)
        CHECK(CLOSE(got[i], w[i], 1e-4), "word %d: %g, not %g", i / CYCLED_SIZE, (double)got[i], w[i]);
    ft_destroy(m);
}

/* Without batch norm and dropout: conv-tanh-flatten-fc. A third of the samples has a weight of 0. */
enum { GATHERED = 32, OF_CONV = 3 * 2 * 9, OF_FC = 2 * SIDE * SIDE * 27 };
static float sample_weight(void *user, int index)
{
    (void)user;
    return index % 3 == 0 ? 0.0f : 0.5f + (float)(index % 5);
}
static int label_of(void *user, int index) { return (void)user, labels[index]; }
static bool get_sample(void *user, int index, int view, ft_slot *slots, int count)
{
    int i;
    (void)user, (void)view;
    for (i = 0; i < count; ++i) {
        if (!strcmp(slots[i].name, "input"))
            memcpy(slots[i].values, pictures + index * PIXELS, PIXELS * sizeof(float));
        else *(int32_t *)slots[i].values = index % 7 == 2 ? -1 : labels[index];
    }
    return index != 13; /* one cannot be read */
}

/* Weights after three epochs in batches of `batch`, `accumulate` for each update; returns how many. */
static size_t fit_gathered(int batch, int accumulate, int most_steps, bool regression, float *to)
{
    static const float of_class[] = {0.2f, 1, 3};
    ft_model *m = ft_create((ft_desc){.seed = 4, .threads = 1});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {2, SIDE, SIDE}}), y;
    ft_fit_options o = quick(3);
    ft_data *data;
    size_t count;
    x = ft_conv2d(m, "conv", x, 3, (ft_conv2d_options){.kernel = {3}, .stride = {2}});
    x = ft_flatten(m, "flat", ft_activation(m, "tanh", "tanh", x, (ft_activation_options){0}));
    x = ft_linear(m, "fc", x, regression ? 2 * SIDE * SIDE : CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    o.batch_size = batch;
    o.accumulate = accumulate;
    o.most_steps = most_steps;
    o.schedule = FT_COSINE;
    o.warmup_epochs = 1;
    o.optimizer.eps = 1e-3f;
    o.optimizer.clip_norm = 0.5f;
    if (regression) {
        ft_set_loss(m, ft_mse(m, "loss", x, ft_flatten(m, "same", ft_find(m, "input"))));
        data = ft_arrays(m, GATHERED, pictures, NULL, (ft_array_options){0});
    } else {
        ft_source source = {.count = GATHERED, .classes = CLASSES, .get = get_sample,
                            .label = label_of, .weight = sample_weight};
        y = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, (ft_loss_options){0}));
        o.class_weights = of_class;
        o.class_weight_count = CLASSES;
        data = ft_data_source(m, source);
    }
    CHECK(ft_fit(m, data, o).epochs == 3, "%s", ft_error_text(m));
    count = numbers_of(m, ft_find(m, "fc.weight"));
    ft_get(m, ft_find(m, "conv.weight"), to, OF_CONV);
    ft_get(m, ft_find(m, "fc.weight"), to + OF_CONV, count);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    return OF_CONV + count;
}

/* Batches that add up to a large one train as it does, although their losses are means over other
   numbers of labels and sums of weights. */
static void test_accumulate(void)
{
    static float large[OF_CONV + OF_FC], small[OF_CONV + OF_FC];
    int k, most_steps = 2 * ((GATHERED + 11) / 12) + 1; /* updates: one of the third epoch */
    for (k = 0; k < 4; ++k) {
        bool regression = k % 2 == 1;
        size_t count = fit_gathered(12, 1, k < 2 ? 0 : most_steps, regression, large), i;
        double apart = 0;
        float most = 0;
        fit_gathered(4, 3, k < 2 ? 0 : most_steps, regression, small);
        for (i = 0; i < count; ++i) {
            if (fabsf(large[i]) > most) most = fabsf(large[i]);
            apart = worse(apart, (double)fabsf(large[i] - small[i]));
        }
        CHECK(apart <= (double)(1e-5f * most), "regression %d: %g apart of %g", regression, apart, (double)most);
        fit_gathered(4, k < 2 ? 1 : 3, 0, regression, small);
        CHECK(fabsf(large[0] - small[0]) > 1e-4f, "small batches or more updates train otherwise");
    }
}

typedef struct seen_rates { double loss[8]; float rate[9]; int epochs; } seen_rates;

static bool note_rates(void *user, const ft_progress *p)
{
    seen_rates *r = (seen_rates *)user;
    if (p->epoch_done) {
        r->loss[p->epoch] = p->held_back_loss >= 0 ? p->held_back_loss : p->loss;
        r->epochs = p->epoch + 1;
    } else r->rate[p->epoch] = p->learning_rate;
    return true;
}

static float by_half(void *user, int step, int steps)
{
    int *most = (int *)user;
    if (step > *most) *most = step;
    return steps == 10 ? 1 / (float)(1 + step) : step == 3 ? NAN : 1;
}

/* The rates of a fit follow the held-back loss, the training loss, and the caller's function. */
static void test_rates(void)
{
    ft_desc desc = {.seed = 5, .threads = 1};
    int held, i, most = -1;
    for (held = 0; held < 2; ++held) {
        ft_fit_options o = quick(8);
        ft_model *m = new_model(desc);
        seen_rates r;
        float want = 0.3f;
        double best = 1e30;
        int waited = 0;
        memset(&r, 0, sizeof r);
        o.schedule = FT_PLATEAU;
        o.optimizer.learning_rate = 0.3f; /* so that the loss goes up and down */
        o.step_epochs = 1;
        o.gamma = 0.5f;
        o.hold_back = held ? 0.3f : 0;
        o.progress = note_rates;
        o.progress_user = &r;
        ft_fit(m, new_data(m), o);
        CHECK(ft_error(m) == FT_OK && r.epochs == 8, "%s", ft_error_text(m));
        for (i = 0; i < 8; ++i) {
            CHECK(fabsf(r.rate[i] - want) <= 1e-6f, "held %d, epoch %d: rate %g, not %g", held, i,
                  (double)r.rate[i], (double)want);
            waited = r.loss[i] < best * (1 - 1e-4) ? 0 : waited + 1;
            if (waited == 0) best = r.loss[i];
            if (waited > 1) want *= 0.5f, waited = 0;
        }
        CHECK(want < 0.2f, "held %d: the rate stayed", held);
        ft_destroy(m);
    }
    {
        ft_fit_options o = quick(3);
        ft_model *m = new_model(desc);
        seen_rates r;
        o.batch_size = 18; /* five steps an epoch, the first five of warm-up */
        o.warmup_epochs = 1;
        o.factor = by_half;
        o.factor_user = &most;
        o.progress = note_rates;
        o.progress_user = &r;
        ft_fit(m, new_data(m), o);
        CHECK(ft_error(m) == FT_OK && most == 9 && fabsf(r.rate[1] - 0.01f / 5) < 1e-8f
              && fabsf(r.rate[2] - 0.001f) < 1e-8f && fabsf(r.rate[0] - 0.01f) < 1e-8f,
              "%s, %d steps, rates %g %g %g", ft_error_text(m), most, (double)r.rate[0],
              (double)r.rate[1], (double)r.rate[2]);
        o.schedule = FT_COSINE;
        ft_fit(m, new_data(m), o);
        expect(m, FT_INVALID, "schedule has no effect here: it is for a run without factor", "");
        o.schedule = FT_CONSTANT;
        o.epochs = 4;
        ft_fit(m, new_data(m), o);
        expect(m, FT_INVALID, "the schedule's factor of step 3 is nan", "");
        ft_destroy(m);
    }
}

/* The plateau's state is in the checkpoint. */
static void test_resume_of_plateau(void)
{
    ft_fit_options o = quick(4);
    o.schedule = FT_PLATEAU;
    o.optimizer.learning_rate = 0.3f;
    o.step_epochs = 1;
    o.gamma = 0.5f;
    check_resume("", o, 5);
}

/* EMA and SWA against averages of the weights that a run without them has after each step or epoch. */
typedef struct averages { ft_model *m; double mean[CLASSES * 27]; int count; bool swa; } averages;

static bool note_weights(void *user, const ft_progress *p)
{
    averages *a = (averages *)user;
    float now[CLASSES * 27];
    int i;
    if (p->preparing || p->epoch_done != a->swa || (a->swa && p->epoch < 6)) return true;
    ft_get(a->m, ft_find(a->m, "fc.weight"), now, CLASSES * 27);
    for (i = 0; i < CLASSES * 27; ++i)
        a->mean[i] += ((double)now[i] - a->mean[i])
            * (a->count == 0 ? 1 : a->swa ? 1.0 / (a->count + 1) : 0.25);
    a->count += 1;
    return true;
}

static ft_data *average_network(ft_model *m)
{
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {2, SIDE, SIDE}});
    x = ft_conv2d(m, "conv", x, 3, (ft_conv2d_options){.kernel = {3}, .stride = {2}});
    x = ft_batch_norm(m, "norm", x, (ft_batch_norm_options){0});
    x = ft_linear(m, "fc", ft_flatten(m, "flat", x), CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
    return new_data(m);
}

/* The running statistics of the batch norm are those of the samples, with these weights. */
static void check_statistics(ft_model *m)
{
    static float out[SAMPLES * 27];
    float mean[3], var[3];
    ft_node conv = ft_find(m, "conv");
    int c, s, i;
    double means[3], vars[3] = {0};
    ft_get(m, ft_find(m, "norm.running_mean"), mean, 3);
    ft_get(m, ft_find(m, "norm.running_var"), var, 3);
    ft_keep(m, conv);
    feed(m, SAMPLES, SAMPLES);
    ft_forward(m, false);
    ft_get(m, conv, out, SAMPLES * 27);
    for (c = 0; c < 3; ++c) {
        double sum = 0;
        for (s = 0; s < SAMPLES; ++s)
            for (i = 0; i < 9; ++i) sum += (double)out[(s * 3 + c) * 9 + i];
        means[c] = sum / (SAMPLES * 9);
        for (s = 0; s < SAMPLES; ++s)
            for (i = 0; i < 9; ++i) {
                double off = (double)out[(s * 3 + c) * 9 + i] - means[c];
                vars[c] += off * off / (SAMPLES * 9 - 1);
            }
        CHECK(fabs((double)mean[c] - means[c]) < 1e-4, "mean %g, not %g", (double)mean[c], means[c]);
        CHECK(fabs((double)var[c] - vars[c]) < 0.05 * vars[c], "variance %g, not %g", (double)var[c],
              vars[c]);
    }
}

static void test_averages(void)
{
    int swa, i;
    for (swa = 0; swa < 2; ++swa) {
        averages a;
        float got[CLASSES * 27];
        double most = 0;
        ft_fit_options o = quick(swa ? 8 : 2);
        ft_desc desc = {.seed = 12, .threads = 1};
        ft_model *m = ft_create(desc), *plain = ft_create(desc);
        ft_data *data = average_network(m), *same = average_network(plain);
        memset(&a, 0, sizeof a);
        o.batch_size = 15;
        a.m = plain;
        a.swa = swa;
        o.progress = note_weights;
        o.progress_user = &a;
        ft_fit(plain, same, o);
        o.progress = NULL;
        if (swa) o.swa = true;
        else o.ema = 0.75f;
        ft_fit(m, data, o);
        CHECK(ft_error(m) == FT_OK && a.count == (swa ? 2 : 12), "%s, %d", ft_error_text(m), a.count);
        ft_get(m, ft_find(m, "fc.weight"), got, CLASSES * 27);
        for (i = 0; i < CLASSES * 27; ++i) most = worse(most, fabs((double)got[i] - a.mean[i]));
        CHECK(most < 1e-6, "swa %d: %g from the mean of the weights", swa, most);
        if (swa) check_statistics(m);
        ft_destroy(m);
        ft_destroy(plain);
    }
}

static void test_resume_of_averages(void)
{
    ft_fit_options o = quick(4);
    o.swa = true;
    check_resume("", o, 5);
    o.swa = false;
    o.ema = 0.9f;
    o.hold_back = 0.2f;
    o.best = true;
    check_resume("", o, 5);
    o.ema = 0;
    o.average_start = true;
    check_resume("", o, 5);
}

/* average_start: of the weights on the line from those before the run to those of its best epoch, which a
   run without it ends with, those that are best on the held-back samples, as ft_evaluate counts. Returns
   whether they are within the line. */
static bool check_average_start(float rate)
{
    static const char *const names[] = {"conv.weight", "conv.bias", "fc.weight", "fc.bias", "norm.weight",
                                        "norm.bias", "norm.running_mean", "norm.running_var"};
    enum { NAMES = 8, MOST = CLASSES * 27 };
    float held_pictures[SAMPLES * PIXELS], start[NAMES][MOST], end[NAMES][MOST], now[MOST];
    int held[SAMPLES], held_labels[SAMPLES], held_count, i, k, n, part, best = 10;
    ft_fit_options o = quick(1);
    ft_desc desc = {.seed = 12, .threads = 1};
    ft_model *m = ft_create(desc), *plain = ft_create(desc);
    ft_data *data = average_network(m), *same = average_network(plain), *others;
    ft_evaluation e, most;
    ft_fit_result r;
    memset(&most, 0, sizeof most);
    o.hold_back = 0.2f;
    o.best = true;
    o.optimizer.learning_rate = rate;
    ft_fit(m, data, quick(2));
    ft_fit(plain, same, quick(2));
    for (i = 0; i < NAMES; ++i) copy_weight(plain, names[i], start[i]);
    ft_fit(plain, same, o);
    for (i = 0; i < NAMES; ++i) copy_weight(plain, names[i], end[i]);
    o.average_start = true;
    r = ft_fit(m, data, o);
    CHECK(ft_error(m) == FT_OK && ft_error(plain) == FT_OK, "%s", ft_error_text(m));
    held_count = ft_data_held_back(same, o.hold_back, held, SAMPLES);
    for (k = 0; k < held_count; ++k) {
        held_labels[k] = labels[held[k]];
        memcpy(held_pictures + k * PIXELS, pictures + held[k] * PIXELS, PIXELS * sizeof(float));
    }
    others = ft_arrays(plain, held_count, held_pictures, held_labels, (ft_array_options){.classes = CLASSES});
    for (part = 10; part >= 0; --part) {
        for (i = 0; i < NAMES; ++i) {
            n = (int)numbers_of(plain, ft_find(plain, names[i]));
            for (k = 0; k < n; ++k)
                now[k] = (float)(0.1 * part * (double)end[i][k] + (1 - 0.1 * part) * (double)start[i][k]);
            ft_set(plain, ft_find(plain, names[i]), now, (size_t)n);
        }
        e = ft_evaluate(plain, others, (ft_evaluate_options){0});
        if (part < 10 && (e.correct < most.correct || (e.correct == most.correct && e.loss >= most.loss)))
            continue;
        most = e;
        best = part;
    }
    CHECK(fabs(r.end_share - 0.1 * best) < 1e-9, "%g of the end, not %g", r.end_share, 0.1 * best);
    CHECK(r.held_back_correct == most.correct && r.held_back_total == held_count
          && fabs(r.held_back_loss - most.loss) < 1e-4, "%d of %d right, loss %g: %d of %d, %g",
          r.held_back_correct, r.held_back_total, r.held_back_loss, most.correct, held_count, most.loss);
    for (i = 0; i < NAMES; ++i) {
        n = (int)numbers_of(m, ft_find(m, names[i]));
        copy_weight(m, names[i], now);
        for (k = 0; k < n; ++k)
            CHECK(fabs((double)now[k] - (0.1 * best * (double)end[i][k]
                                         + (1 - 0.1 * best) * (double)start[i][k])) < 1e-5,
                  "%s[%d] is %g", names[i], k, (double)now[k]);
    }
    o.best = false;
    ft_fit(m, data, o);
    expect(m, FT_INVALID, "ft_fit: average_start has no effect", "`best`");
    ft_destroy(m);
    ft_destroy(plain);
    return best > 0 && best < 10;
}

/* Rates that are too high, so that the end is not the best: with one of them at least, whatever the
   level of SIMD rounds. */
static void test_average_start(void)
{
    static const float rates[] = {0.1f, 0.2f, 0.3f, 0.05f};
    int i, within = 0;
    for (i = 0; i < 4 && !within; ++i) within += check_average_start(rates[i]);
    CHECK(within > 0, "no rate has a mean within the line as its best");
}

/* The search for a learning rate leaves everything as it was, also for the training that follows; the
   rate is where the loss of the curve falls fastest. */
typedef struct curve_seen { int count; float found, first, last, factor; bool diverged; } curve_seen;

static void see_curve(void *user, const ft_rate_curve *c)
{
    curve_seen *s = (curve_seen *)user;
    s->count = c->count;
    s->found = c->learning_rate;
    s->first = c->rate[0];
    s->last = c->rate[c->count - 1];
    s->factor = c->rate[1] / c->rate[0];
    s->diverged = c->diverged;
    CHECK(!strcmp(c->stage, "rate"), "stage %s", c->stage);
}

static float some_steps(ft_model *m)
{
    float loss = 0;
    int i;
    feed(m, 20, 20);
    for (i = 0; i < 3; ++i) {
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
    }
    return loss;
}

static void test_find_rate(void)
{
    ft_desc desc = {.seed = 6, .threads = 1};
    ft_optimizer_options nadam = {.optimizer = FT_NADAM};
    ft_find_options find = {.curve = see_curve};
    curve_seen seen = {0};
    ft_model *m = new_model(desc), *plain = new_model(desc);
    ft_fit_options o = quick(2);
    uint64_t before;
    ft_data *data = new_data(m);
    float rate;
    find.curve_user = &seen;
    ft_freeze(m, "conv1*");
    ft_freeze(plain, "conv1*");
    ft_set_optimizer(m, nadam);
    ft_set_optimizer(plain, nadam);
    CHECK(some_steps(m) == some_steps(plain), "the same so far");
    before = fingerprint(m);
    o.hold_back = 0.2f;
    o.metric = FT_METRIC_LOSS;
    o.most_steps = 3;
    o.schedule = FT_COSINE;
    o.checkpoint = "build/test_fit_find.checkpoint";
    rate = ft_find_learning_rate(m, data, o, find);
    CHECK(ft_error(m) == FT_OK && rate > 1e-4f && rate < 0.5f && rate == seen.found, "%s: rate %g",
          ft_error_text(m), (double)rate);
    CHECK(seen.count > 20 && seen.count <= 100 && seen.first == 1e-7f
          && fabsf(seen.factor - (float)pow(1e7, 1.0 / 99)) < 1e-4f, "%d steps from %g", seen.count,
          (double)seen.first);
    CHECK(fopen(o.checkpoint, "rb") == NULL, "a checkpoint was written");
    CHECK(fingerprint(m) == before, "the weights were changed");
    CHECK(some_steps(m) == some_steps(plain) && fingerprint(m) == fingerprint(plain),
          "what follows the search is not what follows without it");
    find.to = 1e30f; /* a loss that is not finite is the end of the search, not an error */
    before = fingerprint(m);
    rate = ft_find_learning_rate(m, data, o, find);
    CHECK(ft_error(m) == FT_OK && seen.diverged && seen.count < 100 && fingerprint(m) == before, "%s",
          ft_error_text(m));
    find.steps = 3;
    CHECK(ft_find_learning_rate(m, data, o, find) == 0, "refused");
    expect(m, FT_INVALID, "ft_find_learning_rate: steps is 3", "");
    find.steps = 50;
    find.from = 2;
    find.to = 1;
    ft_find_learning_rate(m, data, o, find);
    expect(m, FT_INVALID, "from 2 to 1", "");
    ft_destroy(m);
    ft_destroy(plain);
}

/* The rate that the recipe's line ends with. */
static double said_rate(const ft_finetune_result *r)
{
    const char *at = strstr(r->choice, "learning rate ");
    return at ? atof(at + strlen("learning rate ")) : 0;
}

/* Names instead of the recipe's choices. */
static void test_recipe_options(void)
{
    ft_desc desc = {.seed = 6, .threads = 1};
    ft_finetune_options o = {.epochs = 2, .optimizer = "lion", .schedule = "polynomial", .freeze = "conv*",
                             .accumulate = 2, .ema = 0.5f};
    ft_model *m = new_model(desc);
    ft_data *data = new_data(m);
    ft_finetune_result r = ft_finetune(m, data, o);
    double lion = said_rate(&r); /* a tenth of AdamW's, as the defaults are */
    CHECK(ft_error(m) == FT_OK && r.fit.epochs == 2, "%s", ft_error_text(m));
    r = ft_finetune(m, data, (ft_finetune_options){.epochs = 2, .freeze = "conv*"});
    CHECK(lion > 0 && CLOSE(said_rate(&r), 10 * lion, 1e-6), "%g, %s", lion, r.choice);
    r = ft_finetune(m, data, (ft_finetune_options){.epochs = 2, .freeze = "conv*", .find_rate = true});
    CHECK(strstr(r.choice, "; 2 epochs, learning rate found by a range test") != NULL, "%s", r.choice);
    o.optimizer = "adamm";
    ft_finetune(m, data, o);
    expect(m, FT_INVALID, "optimizer adamm: it must be one of adamw, adam, sgd, rmsprop", "adafactor");
    o.optimizer = NULL;
    o.schedule = "sine";
    ft_finetune(m, data, o);
    expect(m, FT_INVALID, "schedule sine: it must be one of constant, step", "plateau");
    o.schedule = NULL;
    o.find_rate = true;
    o.learning_rate = 1;
    ft_finetune(m, data, o);
    expect(m, FT_INVALID, "learning_rate has no effect here: it is for a run without find_rate", "");
    ft_destroy(m);
}

/* Stopped between two updates: it ends with the next, and goes on from there. */
static void test_resume_of_accumulated(void)
{
    ft_fit_options o = quick(3);
    o.batch_size = 9;
    o.accumulate = 3;
    check_resume("", o, 3);
}

typedef struct seen_steps { int steps, stop_at, epochs, stages; float rates[32]; char stage[16]; } seen_steps;

static bool see_step(void *user, const ft_progress *p)
{
    seen_steps *s = (seen_steps *)user;
    if (p->preparing) return true;
    if (strcmp(s->stage, p->stage) != 0) {
        snprintf(s->stage, sizeof s->stage, "%s", p->stage);
        s->stages += 1;
    }
    if (!p->epoch_done && s->steps < 32) s->rates[s->steps] = p->learning_rate;
    s->steps += !p->epoch_done;
    s->epochs = p->epochs;
    CHECK(p->step <= p->steps && p->epoch < p->epochs, "step %d of %d, epoch %d of %d", p->step, p->steps, p->epoch,
          p->epochs);
    return s->steps != s->stop_at;
}

/* Of 6 steps an epoch: most_steps 8 are those of a run that is stopped after its 8th; 12 are those of 2 epochs; the
   schedule ends with them; more than all have no effect. */
static void test_most_steps(void)
{
    static const struct { int most, epochs, steps; ft_schedule schedule; bool stopped; } rows[] = {
        {8, 4, 8, FT_CONSTANT, true}, {12, 2, 12, FT_LINEAR, false}, {8, 4, 8, FT_LINEAR, false},
        {99, 4, 24, FT_LINEAR, false}};
    ft_desc desc = {.seed = 21};
    size_t k;
    int i;
    for (k = 0; k < sizeof rows / sizeof rows[0]; ++k) {
        ft_fit_options o = quick(4);
        seen_steps seen = {0}, other = {0};
        ft_model *m = new_model(desc), *same = new_model(desc);
        ft_fit_result r;
        o.schedule = rows[k].schedule;
        o.most_steps = rows[k].most;
        o.progress = see_step;
        o.progress_user = &seen;
        r = ft_fit(m, new_data(m), o);
        CHECK(ft_error(m) == FT_OK && seen.steps == rows[k].steps && !r.stopped && r.epochs == (rows[k].steps + 5) / 6
              && seen.epochs == r.epochs, "%d steps, %d epochs: %s", seen.steps, r.epochs, ft_error_text(m));
        for (i = 0; rows[k].schedule == FT_LINEAR && i < seen.steps; ++i)
            CHECK(CLOSE(seen.rates[i], 0.01 * (1 - i / (double)rows[k].steps), 1e-8), "rate %d is %g", i,
                  (double)seen.rates[i]);
        o.most_steps = 0;
        o.epochs = rows[k].epochs;
        o.progress_user = &other;
        if (rows[k].stopped) other.stop_at = rows[k].steps;
        ft_fit(same, new_data(same), o);
        CHECK((fingerprint(m) == fingerprint(same)) == (k != 2), "row %d: the weights of the other run", (int)k);
        ft_destroy(same);
        ft_destroy(m);
    }
}

/* A limit of each stage of the recipe. */
static void test_most_steps_of_stages(void)
{
    ft_desc desc = {.seed = 21};
    ft_model *m = new_model(desc);
    seen_steps seen = {0};
    ft_finetune_options o = {.most_steps = 2, .progress = see_step, .progress_user = &seen};
    ft_finetune_result r = ft_finetune(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK && seen.stages >= 2 && seen.steps == 2 * seen.stages && r.fit.epochs == 1,
          "%d steps in %d stages: %s", seen.steps, seen.stages, ft_error_text(m));
    o.most_steps = -1;
    ft_finetune(m, new_data(m), o);
    expect(m, FT_INVALID, "ft_finetune: most_steps is -1", "must not be negative");
    ft_destroy(m);
}

static void test_resume_of_another_run(void)
{
    const char *path = "build/test_fit.checkpoint";
    ft_fit_options o = quick(2);
    ft_desc desc = {.seed = 21};
    ft_model *m = new_model(desc);
    remove(path);
    o.checkpoint = path;
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model(desc);
    o.most_steps = 3;
    ft_fit(m, new_data(m), o);
    expect(m, FT_INVALID, path, "most_steps was 0, now 3");
    o.most_steps = 0;
    o.optimizer.learning_rate = 0.5f;
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) != FT_OK && strstr(ft_error_text(m), path), "other settings: \"%s\"",
          ft_error_text(m));
    ft_destroy(m);
    remove(path);
}

/* ---- What may go wrong ---- */

static void test_not_finite(void)
{
    float logits[CLASSES];
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_fit_options o = quick(20);
    int i;
    o.optimizer.optimizer = FT_SGD;
    o.optimizer.learning_rate = 1e30f;
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_NOT_FINITE, "%s", ft_error_text(m));
    CHECK(ft_run(m, pictures, 1, logits, CLASSES) == FT_NOT_FINITE, "errors stick");
    ft_clear_error(m);
    CHECK(ft_run(m, pictures, 1, logits, CLASSES) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < CLASSES; ++i)
        CHECK(fabs((double)logits[i]) < 1e6, "logit %g", (double)logits[i]);
    ft_destroy(m);
}

/* ---- The loop by hand, called in a wrong order ---- */

static void test_feeding(void)
{
    float logits[40 * CLASSES];
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_forward(m, true);
    expect(m, FT_INVALID, "input", "ft_feed");
    feed(m, 16, 0);
    ft_forward(m, true);
    expect(m, FT_INVALID, "labels", "ft_feed");
    feed(m, 16, 8);
    ft_forward(m, true);
    expect(m, FT_SHAPE, "input has 16 ", "labels has 8");
    feed(m, 8, 0);
    CHECK(ft_forward(m, true) > 0 && ft_error(m) == FT_OK, "8 of both: %s", ft_error_text(m));
    ft_run(m, pictures, 4, logits, 4 * CLASSES);
    ft_forward(m, true);
    expect(m, FT_SHAPE, "input has 4", "labels has 8 ");
    /* What was computed from the values before is gone: it has another size. */
    feed(m, 8, 8);
    ft_forward(m, true);
    feed(m, 40, 40);
    ft_backward(m);
    expect(m, FT_INVALID, "ft_backward", "ft_forward");
    ft_get(m, ft_output(m), logits, 40 * CLASSES);
    expect(m, FT_INVALID, "fc2", "run");
    ft_destroy(m);
}

static void test_update_order(void)
{
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    uint64_t before = fingerprint(m);
    ft_update(m, 0.1f);
    expect(m, FT_INVALID, "ft_update", "ft_backward");
    feed(m, 16, 16);
    ft_forward(m, false);
    CHECK(fingerprint(m) == before, "evaluation changes nothing");
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 0.1f);
    CHECK(ft_error(m) == FT_OK && fingerprint(m) != before, "%s", ft_error_text(m));
    before = fingerprint(m);
    ft_update(m, 0.1f);
    expect(m, FT_INVALID, "ft_update", "ft_backward");
    CHECK(fingerprint(m) == before, "an update without gradients changes nothing");
    ft_forward(m, true);
    ft_backward(m);
    ft_backward(m);
    expect(m, FT_INVALID, "ft_backward", "once");
    ft_destroy(m);
}

/* Gradients of the head that are finite each, but add up to infinity; the weights are as before. */
static void overflow(ft_model *m)
{
    static const float zeros[16 * CLASSES];
    static const int same_class[16];
    float large[16], bias[16], head[16 * CLASSES];
    ft_node fc1 = ft_find(m, "fc1.bias"), fc2 = ft_find(m, "fc2.weight");
    int i;
    for (i = 0; i < 16; ++i) large[i] = 1e38f;
    ft_get(m, fc1, bias, 16);
    ft_get(m, fc2, head, 16 * CLASSES);
    ft_set(m, fc1, large, 16);
    ft_set(m, fc2, zeros, 16 * CLASSES);
    ft_feed(m, ft_find(m, "input"), pictures, 16);
    ft_feed(m, ft_find(m, "labels"), same_class, 16);
    for (i = 0; i < 8; ++i) {
        ft_forward(m, true);
        ft_backward(m);
    }
    ft_set(m, fc1, bias, 16);
    ft_set(m, fc2, head, 16 * CLASSES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* Gradients that were not used, or are not finite, are no part of what is trained afterwards. */
static void test_left_gradients(void)
{
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    uint64_t want;
    ft_freeze(m, "drop"); /* the step is a part of its keys */
    ft_fit(m, new_data(m), quick(1));
    want = fingerprint(m);
    ft_destroy(m);
    m = new_model(desc);
    ft_freeze(m, "drop,bn*"); /* whose statistics a forward run would move */
    feed(m, 16, 16);
    ft_forward(m, true);
    ft_backward(m);
    ft_unfreeze(m, "bn*");
    ft_fit(m, new_data(m), quick(1));
    CHECK(ft_error(m) == FT_OK && fingerprint(m) == want, "gradients left over are trained on: %s",
          ft_error_text(m));
    overflow(m);
    ft_update(m, 0.01f);
    expect(m, FT_NOT_FINITE, "gradients", "learning rate");
    feed(m, 16, 16);
    ft_forward(m, true);
    ft_backward(m);
    CHECK(ft_update(m, 0.01f) == FT_OK, "trained on after ft_clear_error: %s", ft_error_text(m));
    ft_destroy(m);
}

/* The last update of a run may be the one that ruins the weights. */
static void test_last_update(float rate, int epochs)
{
    float logits[CLASSES];
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_fit_options o = quick(epochs);
    ft_evaluation e;
    o.batch_size = SAMPLES; /* one update an epoch */
    o.optimizer.optimizer = FT_SGD;
    o.optimizer.learning_rate = rate;
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_NOT_FINITE, "rate %g, %d epochs: %s", (double)rate, epochs,
          ft_error_text(m));
    ft_clear_error(m);
    e = ft_evaluate(m, new_data(m), (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && e.loss < 10, "loss %g: %s", e.loss, ft_error_text(m));
    CHECK(ft_run(m, pictures, 1, logits, CLASSES) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A NULL where something must be is an error that names it, never a crash. */
static void test_null_pointers(void)
{
    float logits[CLASSES];
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc), *empty = ft_create(desc);
    ft_activation_options plain = {0};
    ft_finetune_options recipe = {0};
    ft_prediction best;
    ft_run(m, NULL, 1, logits, CLASSES);
    expect(m, FT_INVALID, "ft_run", "values is NULL");
    ft_run(m, pictures, 1, NULL, CLASSES);
    expect(m, FT_INVALID, "ft_run", "output is NULL");
    ft_feed(m, ft_find(m, "input"), NULL, 4);
    expect(m, FT_INVALID, "ft_feed", "NULL");
    ft_load(empty, NULL, (ft_load_options){0});
    expect(empty, FT_INVALID, "path", "NULL");
    ft_load_weights(m, NULL, (ft_weights_options){0});
    expect(m, FT_INVALID, "path", "NULL");
    ft_save(m, NULL, (ft_save_options){.type = FT_F32});
    expect(m, FT_INVALID, "ft_save", "NULL");
    ft_network(empty, NULL, (ft_network_options){0});
    expect(empty, FT_INVALID, "ft_network", "NULL");
    ft_get(m, ft_find(m, "fc2.bias"), NULL, CLASSES);
    expect(m, FT_INVALID, "ft_get", "NULL");
    ft_set(m, ft_find(m, "fc2.bias"), NULL, CLASSES);
    expect(m, FT_INVALID, "ft_set", "NULL");
    ft_swap_activations(m, "*", NULL, plain);
    expect(m, FT_INVALID, "activation", "NULL");
    ft_fit(m, NULL, quick(1));
    expect(m, FT_INVALID, "ft_fit", "NULL");
    ft_finetune(m, NULL, recipe);
    expect(m, FT_INVALID, "ft_finetune", "NULL");
    ft_evaluate(m, NULL, (ft_evaluate_options){0});
    expect(m, FT_INVALID, "ft_evaluate", "NULL");
    ft_image_folder(m, NULL, (ft_image_folder_options){0});
    expect(m, FT_INVALID, "ft_image_folder", "NULL");
    ft_texts(m, NULL, (ft_text_options){0});
    expect(m, FT_INVALID, "ft_texts", "NULL");
    CHECK(ft_find(m, NULL).id == 0 && ft_freeze(m, NULL) == 0, "no name");
    CHECK(ft_predict_file(m, NULL, &best, 1) == 0 && ft_error(m), "a picture without a path");
    ft_clear_error(m);
    CHECK(fingerprint(m) != 0 && ft_error(m) == FT_OK, "the model is as it was");
    ft_destroy(m);
    ft_save(empty, "build/test_fit.safetensors", (ft_save_options){.type = FT_F32});
    expect(empty, FT_INVALID, "build/test_fit.safetensors", "empty");
    ft_destroy(empty);
}

/* Whatever the rate, and whatever ft_fit says of it: the weights that it leaves can be used. */
static void test_wild_rates(void)
{
    static const float rates[] = {1e8f, 1e18f, 1e28f, 1e33f, 1e36f, 1e37f};
    ft_input_options four = {.size = {4}}, label = {.type = FT_I32};
    ft_array_options options = {.classes = CLASSES};
    size_t i;
    for (i = 0; i < 2 * sizeof rates / sizeof *rates; ++i) {
        ft_desc desc = {.seed = 1};
        ft_model *m = ft_create(desc);
        ft_node x = ft_linear(m, "l1", ft_input(m, "input", four), 16, (ft_linear_options){0});
        ft_data *data = ft_arrays(m, 16, pictures, labels, options);
        ft_fit_options o = quick(i % 2 ? 50 : 1);
        ft_evaluation e;
        x = ft_batch_norm(m, "bn", x, (ft_batch_norm_options){0});
        x = ft_activation(m, "tanh", "t", x, (ft_activation_options){0});
        x = ft_linear(m, "l2", x, CLASSES, (ft_linear_options){0});
        ft_set_output(m, x);
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label),
                                        (ft_loss_options){0}));
        o.optimizer.optimizer = FT_SGD;
        o.optimizer.learning_rate = rates[i / 2];
        ft_fit(m, data, o);
        ft_clear_error(m);
        e = ft_evaluate(m, data, (ft_evaluate_options){0});
        CHECK(ft_error(m) == FT_OK && e.loss < 1e39, "rate %g, %d epochs: loss %g: %s",
              (double)rates[i / 2], o.epochs, e.loss, ft_error_text(m));
        ft_destroy(m);
    }
}

static void expect_refused(ft_fit_options o, const char *word)
{
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), word), "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_wrong_options(void)
{
    ft_fit_options o = quick(1);
    o.optimizer.optimizer = (ft_optimizer)9;
    expect_refused(o, "optimizer 9: it must be FT_ADAMW to FT_ADAFACTOR");
    o = quick(1);
    o.optimizer.learning_rate = -1;
    expect_refused(o, "learning rate -1");
    o = quick(1);
    o.schedule = (ft_schedule)9;
    expect_refused(o, "schedule is 9; it must be FT_CONSTANT to FT_PLATEAU");
    o = quick(1);
    o.most_steps = -3;
    expect_refused(o, "ft_fit: most_steps is -3; it must be finite and not negative");
    o = quick(1);
    o.hold_back = 1.5f;
    expect_refused(o, "hold_back is 1.5; it must be at least 0 and below 1");
    o = quick(1);
    o.best = true;
    expect_refused(o, "hold_back");
    o = quick(1);
    o.patience = 2;
    expect_refused(o, "hold_back");
    o = quick(-1);
    expect_refused(o, "epochs is -1; it must be");
    o = quick(1);
    o.batch_size = -4;
    expect_refused(o, "batch_size is -4; it must be");
    o = quick(1);
    o.warmup_epochs = (float)NAN;
    expect_refused(o, "warmup_epochs is nan; it must be");
    o = quick(1);
    o.ema = 1;
    expect_refused(o, "ema is 1; it must be at least 0 and below 1");
    o.ema = 0;
    o.schedule = FT_WARM_RESTARTS;
    o.gamma = 0.5f;
    expect_refused(o, "gamma is 0.5; of FT_WARM_RESTARTS it must be at least 1");
}

static ft_desc counting_desc(memory_count *c)
{
    ft_desc desc = {.seed = 2, .threads = 2};
    desc.allocator = counting(c);
    return desc;
}

static ft_status whole_life(memory_count *c, bool frozen)
{
    ft_save_options save = {FT_F32};
    ft_load_options load;
    ft_status status;
    ft_model *m = new_model(counting_desc(c)), *again;
    if (!m) return FT_MEMORY;
    memset(&load, 0, sizeof load);
    if (frozen) ft_freeze(m, "conv*,bn*");
    ft_fit(m, new_data(m), quick(1));
    ft_save(m, "build/test_fit.safetensors", save);
    status = ft_error(m);
    ft_destroy(m);
    again = ft_create(counting_desc(c));
    if (!again) return FT_MEMORY;
    ft_load(again, "build/test_fit.safetensors", load);
    if (status == FT_OK) status = ft_error(again);
    ft_destroy(again);
    return status;
}

static void test_no_memory(void)
{
    memory_count c = {0};
    long calls, n;
    CHECK(whole_life(&c, true) == FT_OK, "with memory all is well");
    CHECK(c.blocks == 0, "%ld blocks were not released", c.blocks);
    calls = c.calls;
    for (n = 1; n <= calls; ++n) {
        ft_status status;
        memory_count failing = {.fail_at = n};
        status = whole_life(&failing, true);
        CHECK(status == FT_MEMORY, "allocation %ld of %ld fails: status %s", n, calls,
              ft_status_name(status));
        CHECK(failing.blocks == 0, "allocation %ld fails: %ld blocks are left", n, failing.blocks);
    }
    remove("build/test_fit.safetensors");
}

static void test_no_allocation_in_a_step(void)
{
    memory_count c = {0};
    ft_model *m = new_model(counting_desc(&c));
    long calls = 0;
    int step;
    for (step = 0; step < 6; ++step) {
        feed(m, 16 - step, 16 - step);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
        if (step == 0) calls = c.calls;
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(c.calls == calls, "%ld allocations in later, smaller steps", c.calls - calls);
    ft_destroy(m);
}

static void test_plan_and_budget(void)
{
    memory_count c = {0};
    ft_desc desc = counting_desc(&c), poor = {.seed = 2};
    ft_model *m;
    ft_plan_bytes plan;
    size_t taken, before;
    int i;
    desc.threads = poor.threads = 1;
    for (i = 0; i < 3; ++i) {
        /* conv1 and conv2 are [5, 2, 3, 3] and [6, 5, 3, 3], fc1 and fc2 [16, 6] and [3, 16]; the
           rest are 52 numbers in vectors */
        const size_t numbers[] = {2 * (90 + 270 + 96 + 48 + 52), 90 + 270 + 96 + 48 + 52,
                                  2 * (30 + 90) + 22 + 19 + 52};
        ft_optimizer_options o = {.optimizer = i == 0 ? FT_ADAMW : i == 1 ? FT_LION : FT_ADAFACTOR};
        m = new_model(desc);
        ft_set_optimizer(m, o);
        plan = ft_plan(m, 64, true);
        before = c.bytes;
        feed(m, 64, 64);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
        taken = c.bytes - before + plan.parameters;
        CHECK((double)plan.total > 0.9 * (double)taken && (double)plan.total < 1.1 * (double)taken,
              "ft_plan told %zu bytes, %zu were taken", plan.total, taken);
        CHECK(plan.optimizer == numbers[i] * sizeof(float), "%zu bytes of state, not %zu",
              plan.optimizer, numbers[i] * sizeof(float));
        ft_destroy(m);
    }
    poor.memory_budget = 40000;
    m = new_model(poor);
    ft_fit(m, new_data(m), quick(1));
    CHECK(ft_error(m) == FT_MEMORY, "a budget of 40000: %s", ft_error_text(m));
    ft_destroy(m);
}

static void test_arena(void)
{
    static unsigned char arena[8 << 20];
    ft_desc desc = {.seed = 11};
    uint64_t with_malloc = fit_and_hash(desc, "", quick(1));
    desc.arena = arena;
    desc.arena_bytes = sizeof arena;
    CHECK(fit_and_hash(desc, "", quick(1)) == with_malloc, "an arena gives other bits");
}

/* ---- Rules on parameters, choice of epoch ---- */

static void test_rules(void)
{
    float before[512], after[512];
    ft_desc desc = {.seed = 6};
    ft_model *m = new_model(desc);
    memset(before, 0, sizeof before);
    memset(after, 0, sizeof after);
    CHECK(ft_scale_learning_rate(m, "conv?.weight", 0) == 2, "two weights match");
    copy_weight(m, "conv2.weight", before);
    ft_set_weight_decay(m, "conv2*", 0);
    ft_fit(m, new_data(m), quick(1));
    copy_weight(m, "conv2.weight", after);
    CHECK(memcmp(before, after, sizeof before) == 0, "a learning rate of 0 moves nothing");
    ft_destroy(m);
}

/* By hand: plain SGD of one step moves each weight by rate * factor * (gradient + decay * weight). */
static void test_groups(void)
{
    static const char *const names[] = {"conv1.weight", "conv2.bias", "fc1.weight", "fc2.weight",
                                        "bn1.weight", "conv2.weight"};
    static const ft_parameter_group groups[] = {
        {.glob = "*", .rate_factor = 0.5f}, {.glob = "fc*", .weight_decay = 0.3f},
        {.glob = "*.bias,bn*", .no_decay = true}, {.glob = "conv1*", .frozen = true}};
    static const ft_parameter_group wrong[] = {
        {.glob = NULL}, {.glob = "*", .rate_factor = -1}, {.glob = "*", .weight_decay = NAN},
        {.glob = "*", .rate_factor = 1, .frozen = true}, {.glob = "*", .weight_decay = 1, .no_decay = true}};
    static const float factor[] = {0, 1, 1, 1, 1, 0.5f}, decay[] = {0, 0, 0.3f, 0.3f, 0, 0.1f};
    ft_desc desc = {.seed = 6, .threads = 1};
    ft_model *m = new_model(desc);
    size_t i, k;
    ft_freeze(m, "conv*");
    ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_SGD, .weight_decay = 0.1f});
    CHECK(ft_set_groups(m, groups, 4) == 12, "12 parameters are in a group");
    feed(m, 20, 20);
    for (i = 0; i < 6; ++i) {
        static float before[512], after[512], gradient[512];
        ft_node node = ft_find(m, names[i]);
        size_t count = numbers_of(m, node);
        ft_forward(m, true);
        ft_backward(m);
        copy_weight(m, names[i], before);
        if (factor[i] > 0) ft_get_gradient(m, node, gradient, count);
        ft_update(m, 0.2f);
        copy_weight(m, names[i], after);
        for (k = 0; k < count; ++k) {
            float want = before[k] - 0.2f * factor[i] * (gradient[k] + decay[i] * before[k]);
            if (!(fabsf(after[k] - want) <= 1e-6f)) break;
        }
        CHECK(k == count, "%s[%zu]: %g, before %g", names[i], k, (double)after[k], (double)before[k]);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_set_groups(m, groups + 1, 2) == 10, "the first group is not among these");
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        CHECK(ft_set_groups(m, &wrong[i], 1) == 0, "refused");
        expect(m, FT_INVALID, "ft_set_groups", "");
    }
    ft_set_groups(m, groups, -1);
    expect(m, FT_INVALID, "ft_set_groups: -1 groups: at least 0 are expected", "");
    ft_destroy(m);
}

/* One step of Adam moves each weight by its rate, whatever its gradient is. */
static void check_decay(ft_model *m, const char *const *names, const int *below, int layers)
{
    int i;
    CHECK(ft_decay_layers(m, 0.5f) == layers, "%s: other than %d layers", names[0], layers);
    for (i = 0; names[i]; ++i) {
        ft_node node = ft_find(m, names[i]);
        size_t count = numbers_of(m, node), k;
        float *before = weight_of(m, node), *after, most = 0, want = 0.01f;
        ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_ADAM, .eps = 1e-30f});
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.01f);
        after = weight_of(m, node);
        for (k = 0; k < count; ++k)
            if (fabsf(after[k] - before[k]) > most) most = fabsf(after[k] - before[k]);
        for (k = 0; k < (size_t)below[i]; ++k) want *= 0.5f;
        CHECK(fabsf(most - want) <= 1e-3f * want, "%s moved by %g, not %g", names[i], (double)most,
              (double)want);
        free(before);
        free(after);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_layers(void)
{
    static const char *const resnet[] = {"conv1.weight", "bn1.bias", "layer1.0.conv1.weight",
                                         "layer2.0.bn2.weight", "layer3.2.conv2.weight", "linear.weight",
                                         NULL};
    static const char *const small[] = {"conv1.weight", "bn1.weight", "conv2.bias", "bn2.weight",
                                        "fc1.weight", "fc2.bias", NULL};
    static const int of_resnet[] = {10, 10, 9, 6, 1, 0}, of_small[] = {5, 4, 3, 2, 1, 0};
    ft_desc desc = {.seed = 6, .threads = 1};
    ft_model *m = new_model(desc);
    feed(m, 20, 20);
    ft_decay_layers(m, -1);
    expect(m, FT_INVALID, "ft_decay_layers: factor is -1", "");
    check_decay(m, small, of_small, 5);
    m = ft_create(desc);
    ft_network(m, "resnet20", (ft_network_options){.width = 0.25f, .classes = 3});
    feed(m, 3, 3);
    check_decay(m, resnet, of_resnet, 9);
}

typedef struct held { double best, last; int epochs; } held;

static bool note_held(void *user, const ft_progress *p)
{
    held *h = (held *)user;
    if (!p->epoch_done) return true;
    h->epochs += 1;
    h->last = p->held_back_accuracy;
    if (h->last > h->best) h->best = h->last;
    return true;
}

static void test_best_epoch(void)
{
    held h = {0, 0, 0};
    ft_fit_options o = quick(40);
    ft_desc desc = {.seed = 8};
    ft_model *m = new_model(desc);
    ft_fit_result r;
    o.hold_back = 0.3f;
    o.best = true;
    o.patience = 3;
    o.progress = note_held;
    o.progress_user = &h;
    r = ft_fit(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(r.best_epoch >= 0 && CLOSE(r.held_back_accuracy, h.best, 1e-9), "best %d: %g of %g",
          r.best_epoch, r.held_back_accuracy, h.best);
    CHECK(r.epochs == h.epochs && (r.epochs == 40 || r.epochs == r.best_epoch + 4),
          "patience 3: best %d, ended after %d", r.best_epoch, r.epochs);
    ft_destroy(m);
}

/* ---- The metric that the best epoch follows ---- */

typedef struct followed { ft_metric metric; double best, loss; int epochs, best_epoch; } followed;

static bool note_followed(void *user, const ft_progress *p)
{
    followed *f = (followed *)user;
    bool lower = f->metric == FT_METRIC_LOSS || f->metric == FT_METRIC_LOG_LOSS;
    if (!p->epoch_done) return true;
    CHECK(p->metric == f->metric, "followed: %s, not %s", ft_metric_name(p->metric), ft_metric_name(f->metric));
    if (f->epochs == 0 || (lower ? p->held_back_metric < f->best : p->held_back_metric > f->best)
        || (!(p->held_back_metric < f->best) && !(p->held_back_metric > f->best) && p->held_back_loss < f->loss)) {
        f->best = p->held_back_metric;
        f->loss = p->held_back_loss;
        f->best_epoch = p->epoch;
    }
    f->epochs += 1;
    return true;
}

static int noisy[SAMPLES]; /* labels, two in five of which are wrong: then loss and accuracy disagree */

/* The held-back samples as data, and their metrics. */
static ft_metrics of_held_back(ft_model *m, ft_data *data, float share)
{
    static float chosen[SAMPLES * PIXELS];
    int which[SAMPLES], classes[SAMPLES], i, count = ft_data_held_back(data, share, which, SAMPLES);
    ft_metrics metrics;
    for (i = 0; i < count; ++i) {
        memcpy(chosen + i * PIXELS, pictures + which[i] * PIXELS, PIXELS * sizeof *chosen);
        classes[i] = noisy[which[i]];
    }
    ft_evaluate(m, ft_arrays(m, count, chosen, classes, (ft_array_options){.classes = CLASSES}),
                (ft_evaluate_options){.metrics = &metrics, .batch_size = 7});
    CHECK(ft_error(m) == FT_OK && metrics.samples == count, "%s", ft_error_text(m));
    return metrics;
}

static void test_followed_metric(void)
{
    static const ft_metric metrics[] = {FT_METRIC_ACCURACY, FT_METRIC_LOSS, FT_METRIC_LOG_LOSS,
                                        FT_METRIC_RECALL_MACRO};
    int epochs[4];
    size_t i;
    for (i = 0; i < SAMPLES; ++i) noisy[i] = i * 7 % 5 > 1 ? labels[i] : (labels[i] + 1) % CLASSES;
    for (i = 0; i < 4; ++i) {
        followed f = {metrics[i], 0, 0, 0, 0};
        ft_fit_options o = quick(12);
        ft_model *m = new_model((ft_desc){.seed = 8});
        ft_data *data = ft_arrays(m, SAMPLES, pictures, noisy, (ft_array_options){.classes = CLASSES});
        ft_metrics after;
        ft_fit_result r;
        o.optimizer.learning_rate = 0.1f;
        o.hold_back = 0.3f;
        o.best = true;
        o.metric = i ? metrics[i] : FT_METRIC_AUTO; /* a classifier's own is the accuracy */
        o.progress = note_followed;
        o.progress_user = &f;
        r = ft_fit(m, data, o);
        CHECK(ft_error(m) == FT_OK && r.metric == metrics[i], "%s", ft_error_text(m));
        CHECK(f.epochs == 12 && CLOSE(r.held_back_metric, f.best, 1e-12), "%s: %g, the best was %g",
              ft_metric_name(metrics[i]), r.held_back_metric, f.best);
        CHECK(r.best_epoch == f.best_epoch, "%s: epoch %d, not %d", ft_metric_name(metrics[i]),
              r.best_epoch, f.best_epoch);
        after = of_held_back(m, data, 0.3f);
        CHECK(CLOSE(after.of[i == 1 ? FT_METRIC_LOG_LOSS : metrics[i]].value, f.best, 1e-5),
              "%s: %g of the kept weights, not %g", ft_metric_name(metrics[i]), after.of[metrics[i]].value, f.best);
        epochs[i] = r.best_epoch;
        ft_destroy(m);
    }
    CHECK(epochs[0] != epochs[1], "accuracy and loss both chose epoch %d", epochs[0]);
}

static void test_metrics_refused(void)
{
    ft_metrics metrics;
    ft_fit_options o = quick(1);
    ft_model *m = new_model((ft_desc){.seed = 8});
    ft_data *data = new_data(m);
    o.metric = FT_METRIC_KAPPA;
    ft_fit(m, data, o);
    expect(m, FT_INVALID, "ft_fit: metric has no effect", "hold_back");
    o.hold_back = 0.3f;
    o.metric = FT_METRIC_COUNT;
    ft_fit(m, data, o);
    expect(m, FT_INVALID, "metric is", "one of ft_metric");
    o.metric = FT_METRIC_MAE;
    ft_fit(m, data, o);
    expect(m, FT_INVALID, "metric mae is not defined", "a class of each sample");
    o.metric = FT_METRIC_ENTITY_F1;
    ft_fit(m, data, o);
    expect(m, FT_INVALID, "metric entity_f1 is not defined", "a class of each sample");
    ft_finetune(m, data, (ft_finetune_options){.patience = 2});
    expect(m, FT_INVALID, "ft_finetune: patience has no effect", "hold_back");
    ft_finetune(m, data, (ft_finetune_options){.metric = FT_METRIC_KAPPA});
    expect(m, FT_INVALID, "ft_finetune: metric has no effect", "hold_back");
    CHECK(!*ft_metric_name((ft_metric)-1) && !*ft_metric_name(FT_METRIC_COUNT), "no such metric");
    ft_destroy(m);
    m = ft_create((ft_desc){0}); /* a regression without a loss of ft_mse has no metrics */
    ft_set_output(m, ft_linear(m, "fc", ft_input(m, "input", (ft_input_options){.size = {3}}), 2,
                               (ft_linear_options){0}));
    ft_set_loss(m, ft_binary_cross_entropy(m, "loss", ft_output(m), ft_input(m, "target", (ft_input_options){.size = {2}})));
    ft_evaluate(m, ft_arrays(m, 4, pictures, NULL, (ft_array_options){0}),
                (ft_evaluate_options){.metrics = &metrics});
    expect(m, FT_INVALID, "metrics has no effect", "numbers");
    ft_destroy(m);
}

/* ---- The temperature ---- */

enum { MANY = 400 };

/* A network whose output is its input: logits that are three times too large, as the labels are drawn
   with the probabilities at a temperature of 3. */
static ft_model *too_sure(float *logits, int *classes, int count, ft_data **data)
{
    unsigned state = 5;
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_node x = ft_activation(m, "leaky_relu", "same", ft_input(m, "input", (ft_input_options){.size = {CLASSES}}),
                              (ft_activation_options){.slope = 1});
    int i, k;
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
    for (i = 0; i < count; ++i) {
        double sum = 0, draw = random_number(&state);
        for (k = 0; k < CLASSES; ++k) logits[i * CLASSES + k] = (float)(9 * random_number(&state));
        for (k = 0; k < CLASSES; ++k) sum += exp((double)logits[i * CLASSES + k] / 3);
        for (k = 0; k + 1 < CLASSES; ++k) {
            draw -= exp((double)logits[i * CLASSES + k] / 3) / sum;
            if (draw < 0) break;
        }
        classes[i] = k;
    }
    *data = ft_arrays(m, count, logits, classes, (ft_array_options){.classes = CLASSES});
    return m;
}

/* The mean of -log(the label's probability), by plain C. */
static double loss_at(const float *logits, const int *classes, int count, double temperature)
{
    double loss = 0;
    int i, k;
    for (i = 0; i < count; ++i) {
        double sum = 0;
        for (k = 0; k < CLASSES; ++k) sum += exp((double)logits[i * CLASSES + k] / temperature);
        loss += log(sum) - (double)logits[i * CLASSES + classes[i]] / temperature;
    }
    return loss / count;
}

static void test_temperature(void)
{
    static const char *const path = "build/test_fit.temperature.safetensors";
    static float logits[MANY * CLASSES];
    static int classes[MANY];
    ft_data *data;
    ft_model *m = too_sure(logits, classes, MANY, &data), *again;
    ft_prediction before[MANY], after[MANY], best[MANY];
    ft_metrics raw, soft;
    ft_calibration c;
    double t;
    int i, same = 0;
    ft_predict_data(m, data, before, 1, (ft_predict_options){0});
    ft_evaluate(m, data, (ft_evaluate_options){.metrics = &raw});
    c = ft_calibrate(m, data, (ft_calibrate_options){.batch_size = 7});
    CHECK(ft_error(m) == FT_OK && c.fitted && c.samples == MANY, "%s", ft_error_text(m));
    CHECK(c.temperature > 2.5 && c.temperature < 3.6 && (float)c.temperature == ft_temperature(m), "drawn at 3: %g",
          c.temperature);
    for (t = 0.9; t < 1.2; t += 0.01)
        CHECK(loss_at(logits, classes, MANY, t * c.temperature) > c.loss_after - 1e-9, "%g is better",
              t * c.temperature);
    CHECK(CLOSE(c.loss_before, loss_at(logits, classes, MANY, 1), 1e-6)
          && CLOSE(c.loss_after, loss_at(logits, classes, MANY, c.temperature), 1e-6), "%g, then %g", c.loss_before,
          c.loss_after);
    ft_evaluate(m, data, (ft_evaluate_options){.metrics = &soft});
    CHECK(CLOSE(raw.of[FT_METRIC_LOG_LOSS].value, c.loss_before, 1e-12)
          && CLOSE(soft.of[FT_METRIC_LOG_LOSS].value, c.loss_after, 1e-12), "the metrics use it");
    CHECK(CLOSE(raw.of[FT_METRIC_CALIBRATION_ERROR].value, c.error_before, 1e-12)
          && CLOSE(soft.of[FT_METRIC_CALIBRATION_ERROR].value, c.error_after, 1e-12)
          && c.error_after < 0.5 * c.error_before, "calibration error %g, then %g", c.error_before, c.error_after);
    ft_predict_data(m, data, after, 1, (ft_predict_options){0});
    for (i = 0; i < MANY; ++i) {
        double sum = 0;
        int k, guess = after[i].class_index;
        for (k = 0; k < CLASSES; ++k)
            sum += exp((double)(logits[i * CLASSES + k] - logits[i * CLASSES + guess]) / c.temperature);
        same += guess == before[i].class_index && CLOSE(after[i].probability, 1 / sum, 1e-5)
            && after[i].probability < before[i].probability + 1e-6f;
    }
    CHECK(same == MANY, "%d of %d predictions", same, MANY);
    CHECK(ft_save(m, path, (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m));
    again = ft_create((ft_desc){0});
    CHECK(ft_load(again, path, (ft_load_options){0}) == FT_OK && ft_temperature(again) == ft_temperature(m), "%s",
          ft_error_text(again));
    ft_predict_data(again, ft_arrays(again, MANY, logits, classes, (ft_array_options){0}), best, 1,
                    (ft_predict_options){0});
    CHECK(!memcmp(best, after, sizeof best), "the file predicts as the model: %s", ft_error_text(again));
    ft_destroy(again);
    again = ft_share(m, (ft_desc){0});
    CHECK(ft_temperature(again) == ft_temperature(m), "a share has it");
    ft_destroy(again);
    remove(path);
    CHECK(ft_set_temperature(m, 0) == FT_INVALID, "0 is no temperature");
    expect(m, FT_INVALID, "ft_set_temperature: 0", "above 0");
    for (i = 0; i < MANY; ++i) classes[i] = before[i].class_index; /* now all are right */
    c = ft_calibrate(m, data, (ft_calibrate_options){0});
    CHECK(!ft_error(m) && !c.fitted && c.temperature == 1 && ft_temperature(m) == 1, "all right: %g", c.temperature);
    ft_destroy(m);
}

/* Of a trained network: on the samples that were held back; the next training forgets it. */
static void test_calibrate_held_back(void)
{
    ft_fit_options o = quick(30);
    ft_model *m = new_model((ft_desc){.seed = 8});
    ft_data *data = new_data(m);
    ft_calibration c;
    ft_metrics metrics;
    o.hold_back = 0.3f;
    ft_fit(m, data, o);
    c = ft_calibrate(m, data, (ft_calibrate_options){.hold_back = 0.3f});
    memcpy(noisy, labels, sizeof noisy);
    metrics = of_held_back(m, data, 0.3f);
    CHECK(ft_error(m) == FT_OK && c.samples == metrics.samples, "%d samples, %d held back: %s", c.samples,
          metrics.samples, ft_error_text(m));
    CHECK(CLOSE(metrics.of[FT_METRIC_LOG_LOSS].value, c.loss_after, 1e-9) && c.loss_after <= c.loss_before + 1e-9,
          "%g, then %g", c.loss_before, c.loss_after);
    ft_set_temperature(m, 2);
    ft_fit(m, data, quick(1));
    CHECK(ft_temperature(m) == 1, "other weights: %g", (double)ft_temperature(m));
    ft_calibrate(m, data, (ft_calibrate_options){.hold_back = 1});
    expect(m, FT_INVALID, "ft_calibrate: hold_back is 1", "below 1");
    ft_set_output(m, ft_activation(m, "softmax", "soft", ft_output(m), (ft_activation_options){0}));
    ft_calibrate(m, data, (ft_calibrate_options){0});
    expect(m, FT_INVALID, "ft_calibrate: the output must be the logits", "sample");
    ft_destroy(m);
}

/* What 10 samples tell of which `right` are right. */
static ft_evaluation of_ten(int right)
{
    float values[10 * CLASSES] = {0};
    int classes[10], i;
    ft_desc desc = {.seed = 1};
    ft_model *m = ft_create(desc);
    ft_input_options three = {.size = {CLASSES}}, label = {.type = FT_I32};
    ft_array_options options = {.classes = CLASSES};
    ft_activation_options none = {.slope = 0};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_node x = ft_activation(m, "relu", "same", ft_input(m, "input", three), none);
    ft_evaluation e;
    ft_metrics all;
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
    for (i = 0; i < 10; ++i) {
        values[i * CLASSES + i % CLASSES] = 1;
        classes[i] = (i + (i >= right)) % CLASSES;
    }
    e = ft_evaluate(m, ft_arrays(m, 10, values, classes, options), (ft_evaluate_options){.metrics = &all});
    CHECK(all.of[FT_METRIC_ACCURACY].value == e.accuracy && all.of[FT_METRIC_ACCURACY].low == e.low
          && all.of[FT_METRIC_ACCURACY].high == e.high, "the accuracy is the same");
    CHECK(CLOSE(all.of[FT_METRIC_LOG_LOSS].value, e.loss, 1e-6) && all.samples == 10, "%g, the loss is %g",
          all.of[FT_METRIC_LOG_LOSS].value, e.loss);
    CHECK(ft_error(m) == FT_OK && e.correct == right && e.total == 10, "%d of %d right: %s", e.correct,
          e.total, ft_error_text(m));
    ft_destroy(m);
    return e;
}

static void test_wilson(void)
{
    ft_evaluation e = of_ten(8); /* statsmodels: proportion_confint(8, 10, method="wilson") */
    CHECK(CLOSE(e.low, 0.4901625, 1e-6) && CLOSE(e.high, 0.9433178, 1e-6), "%g %g", e.low, e.high);
    e = of_ten(0);
    CHECK(e.low == 0 && CLOSE(e.high, 0.2775328, 1e-6), "%g %g", e.low, e.high);
}

/* ---- Save and load ---- */

static void test_round_trip(void)
{
    static const char *const names[] = {"across", "down \"and\" \\", "mitte \xc3\xa4"};
    float before[4 * CLASSES], after[4 * CLASSES];
    ft_save_options save = {FT_F32};
    ft_load_options load;
    ft_desc desc = {.seed = 9};
    ft_model *m = new_model(desc), *again = ft_create(desc);
    ft_preprocessing p;
    float mean, std;
    ft_file *file;
    const char *training;
    memset(&load, 0, sizeof load);
    memset(&p, 0, sizeof p);
    p.width = p.height = SIDE;
    p.channels = 2;
    p.mean[0] = 0.485f;
    p.std[0] = p.std[1] = 0.229f;
    ft_set_preprocessing(m, p);
    ft_set_class_names(m, CLASSES, names);
    ft_freeze(m, "conv1*");
    ft_fit(m, new_data(m), quick(1));
    ft_run(m, pictures, 4, before, 4 * CLASSES);
    ft_save(m, "build/test_fit.safetensors", save);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_load(again, "build/test_fit.safetensors", load);
    CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
    ft_run(again, pictures, 4, after, 4 * CLASSES);
    CHECK(memcmp(before, after, sizeof before) == 0, "a saved model gives other logits");
    ft_save(again, "build/test_fit_again.safetensors", save);
    file = ft_file_open(again, "build/test_fit_again.safetensors", load.weights);
    training = file ? ft_file_metadata(file, "training") : NULL;
    CHECK(training && strstr(training, "\"optimizer\":\"adamw\""), "training: %s",
          training ? training : "none");
    ft_file_close(file);
    remove("build/test_fit_again.safetensors");
    CHECK(fingerprint(again) != 1 && ft_node_frozen(again, ft_find(again, "conv1.weight"))
          && !ft_node_frozen(again, ft_find(again, "conv2.weight")), "the mask is in the file");
    CHECK(ft_class_name(again, 1) && !strcmp(ft_class_name(again, 1), names[1]), "class names");
    CHECK(ft_class_name(again, 2) && !strcmp(ft_class_name(again, 2), names[2]), "class names");
    p = ft_get_preprocessing(again);
    mean = 0.485f; /* as floats: on some processors a constant has more digits */
    std = 0.229f;
    CHECK(p.width == SIDE && p.channels == 2 && p.mean[0] == mean && p.std[1] == std,
          "preprocessing");
    ft_fit(again, new_data(again), quick(1));
    CHECK(ft_error(again) == FT_OK, "a loaded model trains on: %s", ft_error_text(again));
    ft_destroy(m);
    ft_destroy(again);
    remove("build/test_fit.safetensors");
}

static void test_surgery(void)
{
    float logits[5];
    ft_desc desc = {.seed = 9};
    ft_activation_options none = {.slope = 0};
    ft_model *m = new_model(desc);
    CHECK(ft_replace_head(m, 5) == FT_OK && ft_class_count(m) == 5, "%s", ft_error_text(m));
    CHECK(ft_swap_activations(m, "relu[12]", "silu", none) == 2, "two activations");
    CHECK(!strcmp(ft_node_operator(m, ft_find(m, "relu2")), "silu"), "the second is one");
    CHECK(!strcmp(ft_node_operator(m, ft_find(m, "relu3")), "relu"), "the third is not");
    CHECK(ft_run(m, pictures, 1, logits, 5) == FT_OK, "%s", ft_error_text(m));
    ft_fit(m, new_data(m), quick(1));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_swap_activations(m, "relu1", "tangens", none);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "tangens"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A network whose loss was exchanged learns, and its accuracy is counted; a file keeps the loss, and other
   classes get a head with cross-entropy. */
static void test_loss_kinds(void)
{
    static const char *const kinds[] = {"focal", "hinge", "binary_cross_entropy", "dice"};
    size_t k;
    for (k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
        ft_model *m = new_model((ft_desc){.seed = 9}), *again = ft_create((ft_desc){.seed = 9});
        ft_evaluation before, after;
        ft_finetune_options o = {.epochs = 1, .freeze = "", .loss = kinds[k]};
        ft_fit_options balanced = quick(1);
        ft_fit_result r;
        bool one = k < 2; /* one operator of labels, which takes weights of classes */
        ft_set_loss_kind(m, kinds[k], (ft_loss_options){.margin = 0});
        before = ft_evaluate(m, new_data(m), (ft_evaluate_options){0});
        r = ft_fit(m, new_data(m), quick(8));
        after = ft_evaluate(m, new_data(m), (ft_evaluate_options){0});
        CHECK(ft_error(m) == FT_OK && after.loss < 0.9 * before.loss && after.accuracy > 0.6 && after.total == SAMPLES
              && r.accuracy > 0.5, "%s: loss %g, was %g; %g right: %s", kinds[k], after.loss, before.loss,
              after.accuracy, ft_error_text(m));
        ft_freeze(m, "conv*,bn*"); /* frozen layers, whose outputs are kept, and so must be the labels */
        r = ft_fit(m, new_data(m), quick(2));
        CHECK(r.accuracy > 0.5, "%s on frozen layers: %g right", kinds[k], r.accuracy);
        ft_unfreeze(m, "*");
        balanced.balanced = true;
        ft_fit(m, new_data(m), balanced);
        if (one) CHECK(ft_error(m) == FT_OK, "%s: %s", kinds[k], ft_error_text(m));
        else expect(m, FT_INVALID, "ft_fit: ", "");
        ft_save(m, "build/kinds.safetensors", (ft_save_options){0});
        ft_load(again, "build/kinds.safetensors", (ft_load_options){0});
        CHECK(ft_evaluate(again, new_data(again), (ft_evaluate_options){0}).loss
              == ft_evaluate(m, new_data(m), (ft_evaluate_options){0}).loss, "%s: %s", kinds[k], ft_error_text(again));
        ft_finetune(again, ft_arrays(again, SAMPLES, pictures, labels, (ft_array_options){.classes = 5}), o);
        CHECK(ft_error(again) == FT_OK && ft_class_count(again) == 5, "%s, 5 classes: %s", kinds[k],
              ft_error_text(again));
        ft_destroy(m);
        ft_destroy(again);
    }
}

/* With a teacher the network learns as well, and is as it was without one afterwards. */
static void test_teacher(void)
{
    ft_model *teacher = new_model((ft_desc){.seed = 9}), *m = new_model((ft_desc){.seed = 4});
    ft_finetune_options o = {.epochs = 8, .freeze = "", .teacher = teacher};
    int nodes = ft_node_count(m), i, left = 0;
    ft_fit(teacher, new_data(teacher), quick(8));
    ft_finetune(m, new_data(m), o);
    for (i = 1; i <= ft_node_count(m); ++i) {
        const char *name = ft_node_name(m, (ft_node){i}); /* NULL: it was removed */
        left += name && strncmp(name, "teacher.", 8) == 0;
    }
    CHECK(ft_error(m) == FT_OK && left == 0 && !strcmp(ft_node_operator(m, ft_loss(m)), "cross_entropy"),
          "%d nodes of the teacher, %d before: %s", left, nodes, ft_error_text(m));
    CHECK(ft_evaluate(m, new_data(m), (ft_evaluate_options){0}).accuracy > 0.6, "%s", ft_error_text(m));
    o.loss = "focal";
    ft_finetune(m, new_data(m), o);
    expect(m, FT_INVALID, "loss has no effect with a teacher", "");
    ft_destroy(m);
    ft_destroy(teacher);
}

/* Classes without names are called by their numbers. */
static void test_unnamed_classes(void)
{
    static const char *const names[] = {"across", NULL, "middle"};
    ft_desc desc = {.seed = 9};
    ft_model *m = new_model(desc);
    ft_finetune_options o = {.epochs = 2};
    int i;
    ft_finetune(m, new_data(m), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < CLASSES; ++i) {
        char number[8];
        snprintf(number, sizeof number, "%d", i);
        CHECK(ft_class_name(m, i) && !strcmp(ft_class_name(m, i), number), "class %d: %s", i,
              ft_class_name(m, i) ? ft_class_name(m, i) : "NULL");
    }
    ft_set_class_names(m, CLASSES, names);
    CHECK(ft_error(m) == FT_OK && !strcmp(ft_class_name(m, 1), "1")
          && !strcmp(ft_class_name(m, 2), "middle"), "%s", ft_error_text(m));
    ft_replace_head(m, 5);
    CHECK(ft_class_count(m) == 5 && !ft_class_name(m, 0) && !ft_class_name(m, 4),
          "a new head has no names of the old one: %s", ft_class_name(m, 0));
    ft_set_class_names(m, -1, names);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "-1"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_set_class_names(m, CLASSES, names);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "3 names for the output's 5"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* Arrays that are for other nodes, or lack labels, do not leave the network's inputs empty. */
/* Every option that does nothing where it is set is named, with what it is for. */
static void test_options_without_effect(void)
{
    static const char *const says[] = {
        "step_epochs has no effect here: it is for FT_STEP, FT_WARM_RESTARTS and FT_PLATEAU", "gamma", "views has no effect here: it is"
        " for augment", "views has no effect here: it is for augment without no_cache", "cache_bytes",
        "checkpoint_steps has no effect here: it is for checkpoint", "momentum has no effect here: it is"
        " for FT_SGD and FT_RMSPROP", "nesterov has no effect here: it is for FT_SGD with momentum", "nesterov",
        "beta1", "beta2", "eps has no effect here: it is for FT_ADAMW, FT_ADAM, FT_RMSPROP",
        "alpha has no effect here: it is for FT_RMSPROP",
        "fixed_momentum has no effect here: it is for FT_ONE_CYCLE", "beta1 has no effect here: it is for a run"};
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_data *data = new_data(m);
    size_t i, count = sizeof says / sizeof says[0];
    for (i = 0; i < count; ++i) {
        ft_fit_options o = quick(1);
        if (i == 0) o.step_epochs = 3;
        if (i == 1) o.gamma = 0.5f;
        if (i == 2) o.views = 3;
        if (i == 3) o.views = 3, o.augment = o.no_cache = true;
        if (i == 4) o.cache_bytes = 1, o.no_cache = true;
        if (i == 5) o.checkpoint_steps = 1;
        if (i == 6) o.optimizer.momentum = 0.9f;
        if (i == 7) o.optimizer.optimizer = FT_SGD, o.optimizer.nesterov = true;
        if (i == 8) o.optimizer.momentum = 0, o.optimizer.nesterov = true;
        if (i == 9) o.optimizer.optimizer = FT_SGD, o.optimizer.beta1 = 0.5f;
        if (i == 10) o.optimizer.optimizer = FT_SGD, o.optimizer.beta2 = 0.5f;
        if (i == 11) o.optimizer.optimizer = FT_SGD, o.optimizer.eps = 1e-3f;
        if (i == 12) o.optimizer.alpha = 0.9f;
        if (i == 13) o.fixed_momentum = true;
        if (i == 14) o.schedule = FT_ONE_CYCLE, o.optimizer.beta1 = 0.8f;
        ft_fit(m, data, o);
        expect(m, FT_INVALID, says[i], "ft_fit");
        if (i < 6 || i > 12) continue;
        ft_set_optimizer(m, o.optimizer);
        expect(m, FT_INVALID, says[i], "ft_set_optimizer");
    }
    CHECK(!ft_arrays(m, 6, pictures, NULL, (ft_array_options){.classes = 3}), "classes of no labels");
    expect(m, FT_INVALID, "classes has no effect", "labels");
    ft_finetune(m, data, (ft_finetune_options){.checkpoint_steps = 1});
    expect(m, FT_INVALID, "ft_finetune: checkpoint_steps has no effect", "checkpoint");
    ft_finetune(m, data, (ft_finetune_options){.augmentation = {.flip = true}});
    expect(m, FT_INVALID, "augmentation has no effect", "an image folder");
    ft_destroy(m);
}

/* The confusion matrix against counts by hand; too small a one is refused before anything is
   written. */
static void test_confusion(void)
{
    int confusion[CLASSES * CLASSES + 1], rows[CLASSES] = {0}, right = 0, i;
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_data *data = new_data(m);
    ft_evaluate_options o = {.confusion = confusion, .confusion_count = CLASSES * CLASSES};
    ft_evaluation e;
    for (i = 0; i <= CLASSES * CLASSES; ++i) confusion[i] = 77;
    e = ft_evaluate(m, data, o);
    CHECK(ft_error(m) == FT_OK && confusion[CLASSES * CLASSES] == 77, "%s", ft_error_text(m));
    for (i = 0; i < SAMPLES; ++i) rows[labels[i]] += 1;
    for (i = 0; i < CLASSES * CLASSES; ++i) rows[i / CLASSES] -= confusion[i];
    for (i = 0; i < CLASSES; ++i) right += confusion[i * CLASSES + i];
    for (i = 0; i < CLASSES; ++i) CHECK(rows[i] == 0, "class %d: %d samples too few", i, rows[i]);
    CHECK(right == e.correct, "%d on the diagonal, %d right", right, e.correct);
    for (i = 0; i < 3; ++i) {
        o.confusion_count = i == 0 ? 0 : i == 1 ? CLASSES * CLASSES - 1 : CLASSES * CLASSES + 1;
        confusion[0] = 77;
        ft_evaluate(m, data, o);
        CHECK(confusion[0] == 77, "something was written");
        expect(m, FT_SHAPE, "confusion_count", "classes, squared");
    }
    ft_evaluate(m, data, (ft_evaluate_options){.confusion_count = 1});
    expect(m, FT_INVALID, "confusion_count has no effect", "confusion");
    ft_destroy(m);
}

/* Numbers that are not finite in the data are said to be that, with the sample. */
static void test_data_not_finite(void)
{
    static const float faults[] = {NAN, INFINITY, -INFINITY, NAN};
    ft_desc desc = {.seed = 4};
    float kept = pictures[5 * PIXELS + 7];
    size_t i, round;
    for (round = 0; round < 3; ++round)
        for (i = 0; i < 4; ++i) {
            ft_model *m = new_model(desc);
            ft_fit_options o = quick(2);
            ft_data *data;
            pictures[5 * PIXELS + 7] = faults[i];
            data = new_data(m);
            if (i == 3) ft_freeze(m, "conv*,bn*"); /* outputs of the frozen layers are kept */
            o.no_cache = round == 1;
            if (round < 2) ft_fit(m, data, o);
            else ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 4});
            CHECK(!strstr(ft_error_text(m), "learning rate"), "%s", ft_error_text(m));
            expect(m, FT_NOT_FINITE, "\"input\" of sample 5 is", i == 1 || i == 2 ? "inf" : "nan");
            ft_feed(m, ft_find(m, "input"), pictures + 4 * PIXELS, 3);
            ft_feed(m, ft_find(m, "labels"), labels, 3);
            ft_forward(m, true);
            expect(m, FT_NOT_FINITE, "\"input\" of sample 1 of the batch is", "the data");
            pictures[5 * PIXELS + 7] = kept;
            ft_destroy(m);
        }
}

/* Labels that are no class, fed by hand; and a loss that no data explains. */
static void test_labels_not_a_class(void)
{
    int wrong[3] = {0, CLASSES, -2};
    ft_desc desc = {.seed = 4};
    ft_model *m = new_model(desc);
    ft_feed(m, ft_find(m, "input"), pictures, 3);
    ft_feed(m, ft_find(m, "labels"), wrong, 3);
    ft_forward(m, true);
    expect(m, FT_NOT_FINITE, "\"labels\" of sample 1 of the batch", "not a class");
    wrong[1] = -100;
    ft_feed(m, ft_find(m, "labels"), wrong, 3);
    ft_forward(m, true);
    expect(m, FT_NOT_FINITE, "\"labels\" of sample 2 of the batch", "-2, not a class");
    ft_destroy(m);
}

static char last_line[1024];

static void keep_line(void *user, const char *line)
{
    (void)user;
    snprintf(last_line, sizeof last_line, "%s", line);
}

/* Slips of the pen in names and patterns, and what is said of each; NULL: nothing. */
static void test_names(void)
{
    static const char *const patterns[][3] = {
        {"conv1*", NULL, NULL}, {"*", NULL, NULL}, {"", NULL, NULL}, {"conv[12]*,fc?.weight", NULL, NULL},
        {"cnov1.weight", "\"cnov1.weight\" matches no name", "nearest name is conv1.weight"},
        {"bn1", "\"bn1\" matches no name", "\"bn1*\" would match bn1."},
        {"conv1*,cov2.b*", "\"cov2.b*\" matches no name", "nearest name is conv2.bias"},
        {"fc[34].weight", "matches no name", "nearest name is fc1.weight"},
        {"fc1.wieght,*", "\"fc1.wieght\"", "fc1.weight"},
        {"transformer.h.0*", "\"transformer.h.0*\" matches no name", ""}};
    ft_desc desc = {.seed = 4, .log = keep_line};
    ft_model *m = new_model(desc);
    size_t i, k;
    for (i = 0; i < sizeof patterns / sizeof patterns[0]; ++i)
        for (k = 0; k < 4; ++k) {
            last_line[0] = 0;
            if (k == 0) ft_freeze(m, patterns[i][0]);
            if (k == 1) ft_unfreeze(m, patterns[i][0]);
            if (k == 2) ft_scale_learning_rate(m, patterns[i][0], 1);
            if (k == 3) ft_set_weight_decay(m, patterns[i][0], -1);
            CHECK(patterns[i][1] ? strstr(last_line, patterns[i][1]) && strstr(last_line, patterns[i][2])
                                 : !last_line[0], "%s: \"%s\"", patterns[i][0], last_line);
        }
    CHECK(!strstr(last_line, "nearest"), "nothing is near: %s", last_line);
    last_line[0] = 0;
    ft_swap_activations(m, "rleu1", "tanh", (ft_activation_options){0});
    CHECK(strstr(last_line, "relu1"), "%s", last_line);
    CHECK(ft_error(m) == FT_OK, "no error: %s", ft_error_text(m));
    ft_feed(m, ft_find(m, "imput"), pictures, 1);
    expect(m, FT_INVALID, "\"imput\"", "nearest name is input");
    ft_get(m, ft_find(m, "fc2.wieght"), (float[1]){0}, 1);
    expect(m, FT_INVALID, "ft_find found no node named \"fc2.wieght\"", "nearest name is fc2.weight");
    ft_linear(m, "more", ft_find(m, "fc1x"), 3, (ft_linear_options){0});
    expect(m, FT_INVALID, "more: its input is not a node", "fc1x");
    ft_add(m, "sum", ft_find(m, "fc1"), ft_find(m, "fc9"));
    expect(m, FT_INVALID, "sum: input 2 is not a node", "\"fc9\" (the nearest name is fc1)");
    ft_finetune(m, new_data(m), (ft_finetune_options){.freeze = "conv1*,covn2*"});
    expect(m, FT_INVALID, "freeze: \"covn2*\" matches no name", "conv2");
    ft_destroy(m);
}

static void test_wrong_arrays(void)
{
    static const ft_array_options wrong[] = {{.input = "x"}, {.labels = "label"}};
    static const char *const says[] = {"values from \"input\", but the arrays fill \"x\"",
                                       "labels from \"labels\", but the arrays fill \"label\""};
    ft_desc desc = {.seed = 9};
    ft_evaluate_options o = {.batch_size = 4};
    ft_model *m = new_model(desc);
    int i;
    for (i = 0; i < 2; ++i) {
        ft_fit(m, ft_arrays(m, 6, pictures, labels, wrong[i]), quick(1));
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), says[i]), "%s", ft_error_text(m));
        ft_clear_error(m);
        ft_evaluate(m, ft_arrays(m, 6, pictures, labels, wrong[i]), o);
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), says[i]), "%s", ft_error_text(m));
        ft_clear_error(m);
    }
    ft_fit(m, ft_arrays(m, 6, pictures, NULL, (ft_array_options){0}), quick(1));
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "no labels"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_evaluate(m, ft_arrays(m, 6, pictures, NULL, (ft_array_options){0}), o);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "no labels"), "%s", ft_error_text(m));
    ft_clear_error(m);
    o.batch_size = -1;
    ft_evaluate(m, ft_arrays(m, 6, pictures, labels, (ft_array_options){0}), o);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "batch_size is -1"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* One sample of each class: nothing can be held back, and so nothing is known to be worth more. */
static void test_too_few_to_hold_back(void)
{
    float b[10] = {0};
    ft_array_options three = {.classes = CLASSES};
    ft_desc desc = {.seed = 9};
    ft_model *m = new_model(desc);
    ft_finetune_options o = {.epochs = 2};
    ft_finetune_result r = ft_finetune(m, ft_arrays(m, CLASSES, pictures, labels, three), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(!strncmp(r.choice, "head only", 9) && strstr(r.choice, "too few") && !strstr(r.choice, "%"),
          "%s", r.choice);
    CHECK(ft_node_frozen(m, ft_find(m, "conv1.weight")), "the layers below were trained");
    CHECK(r.fit.epochs == 2, "the last stage, the head's, took %d epochs", r.fit.epochs);
    ft_destroy(m);
    /* Adapters were asked for, and are trained: B starts at zero. */
    m = new_model(desc);
    CHECK(ft_lora(m, "conv1", (ft_lora_options){.rank = 2}) == 1, "%s", ft_error_text(m));
    r = ft_finetune(m, ft_arrays(m, CLASSES, pictures, labels, three), o);
    ft_get(m, ft_find(m, "conv1.lora_B.weight"), b, 10);
    CHECK(ft_error(m) == FT_OK && !strncmp(r.choice, "adapters and head: of 3 samples only 0", 38), "%s; %s",
          r.choice, ft_error_text(m));
    CHECK(b[0] != 0 && b[1] != 0, "the adapter was not trained");
    ft_destroy(m);
}

/* With 9 samples held back there is no trial, with 12 there is; the line tells the numbers. */
static void test_least_held_back(void)
{
    int count, k;
    for (k = 0; k < 2; ++k) {
        ft_array_options three = {.classes = CLASSES};
        ft_desc desc = {.seed = 9, .log = collect};
        ft_model *m = new_model(desc);
        ft_finetune_options o = {.epochs = 1};
        ft_data *data = ft_arrays(m, k ? 60 : 45, pictures, labels, three);
        ft_finetune_result r = ft_finetune(m, data, o);
        count = ft_data_held_back(data, 0.2f, NULL, 0);
        CHECK(ft_error(m) == FT_OK && count == (k ? 12 : 9), "%d held back: %s", count, ft_error_text(m));
        CHECK(k ? strstr(r.choice, " of 12 held-back ") && strstr(r.choice, "%")
                : !strcmp(r.choice, "head only: of 45 samples only 9 can be held back, too few (10 are needed) to check"
                          " whether training more than a new head helps; 1 epoch, learning rate 0.002"), "%s",
              r.choice);
        CHECK(strstr(log_text, r.choice) != NULL, "the log has no \"%s\"", r.choice);
        ft_destroy(m);
    }
}

/* The log says that a classifier predicts one class for all samples, if they have several. */
static void test_constant_classifier(void)
{
    static const float bias[CLASSES] = {0, 90, 0};
    static const struct { int first, count; bool constant; const char *line; } rows[] = {
        {0, SAMPLES, true, "all 90 predictions are 1, although the data has other classes too: train for more"},
        {0, 9, true, NULL}, {0, SAMPLES, false, NULL}};
    size_t r;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        ft_desc desc = {.seed = 4, .log = collect};
        ft_array_options three = {.classes = CLASSES};
        ft_model *m = new_model(desc);
        ft_data *data = ft_arrays(m, rows[r].count, pictures, labels, three);
        if (rows[r].constant) ft_set(m, ft_find(m, "fc2.bias"), bias, CLASSES);
        else ft_fit(m, data, quick(4));
        log_text[0] = 0;
        ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 7});
        CHECK(ft_error(m) == FT_OK && (rows[r].line ? strstr(log_text, rows[r].line) != NULL
                                       : !strstr(log_text, "predictions are")), "row %d: %s", (int)r, log_text);
        ft_destroy(m);
    }
}

/* ---- Activations applied by the layer before them ---- */

enum { CONV, NORM, ADD, LINEAR, LAYERS };

/* A layer, an activation, a head. A frozen dropout between the two, which changes nothing, keeps the
   layer from applying the activation itself. */
static ft_model *layer_and_activation(int layer, const char *kind, bool apart)
{
    ft_desc desc = {.seed = 9};
    ft_model *m = ft_create(desc);
    ft_input_options picture = {.size = {3, 6, 6}}, classes = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}}, plain = {.kernel = {1}};
    ft_batch_norm_options norm = {0};
    ft_linear_options linear = {0};
    ft_dropout_options dropout = {0};
    ft_activation_options none = {0};
    ft_loss_options loss = {0};
    ft_node input = ft_input(m, "input", picture), x = ft_conv2d(m, "conv", input, 8, conv);
    if (layer == NORM) x = ft_batch_norm(m, "norm", x, norm);
    if (layer == ADD) x = ft_add(m, "add", x, ft_conv2d(m, "other", input, 8, plain));
    if (layer == LINEAR) x = ft_linear(m, "linear", ft_flatten(m, "flat", x), 16, linear);
    if (apart) x = ft_dropout(m, "drop", x, dropout);
    x = ft_activation(m, kind, "activation", x, none);
    if (layer != LINEAR) x = ft_flatten(m, "flatten", x);
    x = ft_linear(m, "head", x, 4, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", classes), loss));
    if (apart) ft_freeze(m, "drop");
    return m;
}

static void test_fused(int layer, const char *kind)
{
    static const char *const names[] = {"conv.weight", "conv.bias", "norm.weight", "norm.bias",
                                        "linear.weight", "other.weight", "head.weight"};
    ft_model *m[2];
    float loss[2], values[5 * 108], gradient[2][5000];
    int classes[5] = {0, 1, 2, 3, 1}, i, which;
    size_t n, k;
    for (i = 0; i < 5 * 108; ++i) values[i] = (float)(i * 37 % 101) / 50.0f - 1;
    for (which = 0; which < 2; ++which) {
        m[which] = layer_and_activation(layer, kind, which == 1);
        ft_feed(m[which], ft_find(m[which], "input"), values, 5);
        ft_feed(m[which], ft_find(m[which], "labels"), classes, 5);
        loss[which] = ft_forward(m[which], true);
        ft_backward(m[which]);
        CHECK(ft_error(m[which]) == FT_OK, "%s", ft_error_text(m[which]));
    }
    CHECK(CLOSE(loss[0], loss[1], 1e-6), "layer %d and %s: %g, apart %g", layer, kind,
          (double)loss[0], (double)loss[1]);
    for (n = 0; n < sizeof names / sizeof *names; ++n) {
        ft_node node = ft_find(m[0], names[n]);
        size_t count = node.id ? numbers_of(m[0], node) : 0;
        double worst = 0, largest = 0;
        for (which = 0; count && which < 2; ++which)
            ft_get_gradient(m[which], ft_find(m[which], names[n]), gradient[which], count);
        for (k = 0; k < count; ++k) {
            worst = worse(worst, fabs((double)gradient[0][k] - (double)gradient[1][k]));
            if (fabs((double)gradient[1][k]) > largest) largest = fabs((double)gradient[1][k]);
        }
        CHECK(!count || worst <= 2e-5 * largest, "layer %d and %s: %s off by %g of %g", layer,
              kind, names[n], worst, largest);
    }
    ft_destroy(m[0]);
    ft_destroy(m[1]);
}

int main(int count, char **words)
{
    static const char *const kinds[] = {"relu", "relu6", "sigmoid", "tanh", "leaky_relu", "gelu"};
    int layer;
    size_t kind;
    make_pictures();
    if (count > 1 && !strcmp(words[1], "threads")) {
        test_same_bits();
        return check_done("test_fit");
    }
    for (layer = 0; layer < LAYERS; ++layer)
        for (kind = 0; kind < sizeof kinds / sizeof *kinds; ++kind) test_fused(layer, kinds[kind]);
    test_frozen(FT_SGD);
    test_frozen(FT_ADAM);
    test_frozen(FT_ADAMW);
    test_frozen_norm_in_the_middle();
    test_all_frozen();
    test_same_bits();
    test_batch_independence();
    test_resume(false, "", 0);
    test_resume(true, "", 0);
    test_resume(true, "conv*,bn*", 0);
    test_resume(true, "", 13);
    test_most_steps();
    test_most_steps_of_stages();
    test_resume_of_optimizers();
    test_one_cycle();
    test_one_cycle_of_words();
    test_accumulate();
    test_resume_of_accumulated();
    test_rates();
    test_resume_of_plateau();
    test_averages();
    test_find_rate();
    test_recipe_options();
    test_resume_of_averages();
    test_average_start();
    test_resume_of_another_run();
    test_not_finite();
    test_feeding();
    test_update_order();
    test_left_gradients();
    test_last_update(1e37f, 1);
    test_last_update(1e37f, 2);
    test_last_update(3e38f, 1);
    test_wild_rates();
    test_null_pointers();
    test_wrong_options();
    test_unnamed_classes();
    test_wrong_arrays();
    test_options_without_effect();
    test_confusion();
    test_data_not_finite();
    test_labels_not_a_class();
    test_names();
    test_too_few_to_hold_back();
    test_least_held_back();
    test_constant_classifier();
    test_no_memory();
    test_no_allocation_in_a_step();
    test_plan_and_budget();
    test_arena();
    test_rules();
    test_groups();
    test_layers();
    test_best_epoch();
    test_followed_metric();
    test_metrics_refused();
    test_temperature();
    test_calibrate_held_back();
    test_wilson();
    test_round_trip();
    test_surgery();
    test_loss_kinds();
    test_teacher();
    return check_done("test_fit");
}
