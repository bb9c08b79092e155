/* test_internals.c - promises of public functions that only the implementation can show: frozen
   layers hold no gradient and no optimiser state, some values are not kept, rows of embeddings
   without a gradient are not updated yet, and a head stays. */
#include "check.h"
#include "internals.h"
#include "branches.h"

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
    ft__add_node(m, &ft__row_rnn, "rnn", inputs, 3, &o);
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

int main(void)
{
    static const ft_optimizer_options optimizers[] = {
        {.optimizer = FT_ADAM}, {.optimizer = FT_ADAMW, .weight_decay = 0.1f},
        {.optimizer = FT_SGD}, {.optimizer = FT_SGD, .momentum = 0.9f}};
    size_t i;
    int threads;
    for (i = 0; i < SAMPLES * 6; ++i) values[i] = (float)(i * 37 % 101) / 50.5f - 1;
    for (i = 0; i < SAMPLES; ++i) labels[i] = (int)i % CLASSES;
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
    return check_done("test_internals");
}
