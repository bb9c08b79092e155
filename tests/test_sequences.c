/* test_sequences.c - networks over sequences: lengths that differ from run to run, padding, carried
   state, networks made by name. The operators themselves are in test_operators.c. */
#include "check.h"
#include "finetune.h"

static const char *temporary = "build/test_sequences.safetensors";

/* Values in [-1, 1) that depend on their place alone. */
static float value_at(int i) { return (float)(i * 37 % 101) / 50.5f - 1; }

/* A linear layer over each step of [N, L, 3], and cross-entropy over its 4 classes. */
static ft_model *steps_model(ft_node *input, ft_node *labels)
{
    ft_desc desc = {.threads = 2, .seed = 3};
    ft_model *m = ft_create(desc);
    ft_input_options numbers = {.size = {FT_LENGTH, 3}};
    ft_input_options integers = {.type = FT_I32, .size = {FT_LENGTH}};
    ft_linear_options linear = {.no_bias = false};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_node logits;
    *input = ft_input(m, "input", numbers);
    *labels = ft_input(m, "labels", integers);
    logits = ft_linear(m, "head", *input, 4, linear);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, *labels, loss));
    return m;
}

/* A run of one length gives what the same steps give in a run of another: short after long, long
   after short, alone and in a batch. */
static void test_lengths(void)
{
    ft_node input, labels;
    ft_model *m = steps_model(&input, &labels), *again;
    float x[2 * 7 * 3], whole[2 * 7 * 4], part[2 * 4 * 4];
    ft_load_options load = {.architecture = NULL};
    ft_save_options save = {.type = FT_F32};
    int n, i;
    for (i = 0; i < 42; ++i) x[i] = value_at(i);
    CHECK(ft_length(m) == 1, "length %d", ft_length(m));
    ft_set_length(m, 7);
    ft_run(m, x, 2, whole, 2 * 7 * 4);
    for (n = 1; n <= 4; ++n) { /* the first n steps of the first sequence */
        ft_set_length(m, n);
        ft_run(m, x, 1, part, (size_t)n * 4);
        CHECK(!memcmp(part, whole, (size_t)n * 4 * sizeof(float)), "%d steps", n);
    }
    CHECK(ft_node_shape(m, ft_output(m)).size[1] == FT_LENGTH, "the output has a length");
    CHECK(ft_save(m, temporary, save) == FT_OK, "%s", ft_error_text(m));
    again = ft_create((ft_desc){.threads = 1});
    ft_load(again, temporary, load);
    ft_set_length(again, 7);
    memset(part, 0, sizeof part);
    ft_run(again, x, 1, whole + 28, 7 * 4);
    CHECK(ft_error(again) == FT_OK && !memcmp(whole, whole + 28, 28 * sizeof(float)),
          "a model file keeps the length: %s", ft_error_text(again));
    CHECK(ft_set_length(m, 0) == FT_INVALID, "no steps");
    ft_destroy(again);
    ft_destroy(m);
    remove(temporary);
}

/* Cross-entropy over more rows and classes than one index of a parallel loop takes: the loss and the
   bias's gradient, the mean of softmax(x) - target, beside sums in double; the same bits with any
   number of threads. */
static void test_many_classes(void)
{
    enum { N = 37, IN = 3, CLASSES = 1003 };
    static float logits[N * CLASSES], gradient[CLASSES], first[CLASSES];
    static double want[CLASSES];
    float x[N * IN], loss, first_loss = 0;
    int32_t labels[N];
    int n, j, threads;
    for (n = 0; n < N * IN; ++n) x[n] = (float)(n * 7 % 19) / 5 - 2;
    for (n = 0; n < N; ++n) labels[n] = n % 9 == 4 ? -1 : n * 211 % CLASSES;
    for (threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
        ft_model *m = ft_create((ft_desc){.threads = threads, .seed = 3});
        ft_node y = ft_linear(m, "fc", ft_input(m, "x", (ft_input_options){.size = {IN}}), CLASSES,
                              (ft_linear_options){0});
        double sum = 0;
        int counted = 0;
        ft_set_output(m, y);
        ft_set_loss(m, ft_cross_entropy(m, "loss", y, ft_input(m, "labels", (ft_input_options){
            .type = FT_I32}), (ft_loss_options){.label_smoothing = 0.1f}));
        ft_feed(m, ft_find(m, "x"), x, N);
        ft_feed(m, ft_find(m, "labels"), labels, N);
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_get_gradient(m, ft_find(m, "fc.bias"), gradient, CLASSES);
        ft_get(m, y, logits, N * CLASSES);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        memset(want, 0, sizeof want);
        for (n = 0; n < N; ++n) {
            double all = 0, q;
            if (labels[n] < 0) continue;
            counted += 1;
            for (j = 0; j < CLASSES; ++j) all += exp((double)logits[n * CLASSES + j]);
            for (j = 0; j < CLASSES; ++j) {
                q = 0.1 / CLASSES + (j == labels[n] ? 0.9 : 0);
                sum -= q * ((double)logits[n * CLASSES + j] - log(all));
                want[j] += exp((double)logits[n * CLASSES + j]) / all - q;
            }
        }
        CHECK(CLOSE(loss, sum / counted, 1e-5), "loss %g, not %g", (double)loss, sum / counted);
        for (j = 0; j < CLASSES; ++j)
            CHECK(CLOSE(gradient[j], want[j] / counted, 1e-6), "class %d: %g, not %g", j,
                  (double)gradient[j], want[j] / counted);
        if (threads == 1) memcpy(first, gradient, sizeof first), first_loss = loss;
        CHECK(!memcmp(first, gradient, sizeof first) && !memcmp(&loss, &first_loss, sizeof loss),
              "other bits with %d threads", threads);
        ft_destroy(m);
    }
}

/* Steps whose label is -1 do not count: loss and gradient are those of the steps without them. */
static void test_padded_loss(void)
{
    ft_node input, labels;
    ft_model *m = steps_model(&input, &labels);
    float x[6 * 3], whole = 0, cut = 0, gradient[2][12];
    int32_t y[6] = {0, 3, 1, 2, -1, -1};
    int i;
    for (i = 0; i < 18; ++i) x[i] = value_at(i);
    for (i = 0; i < 2; ++i) {
        ft_set_length(m, i ? 4 : 6);
        ft_feed(m, input, x, 1);
        ft_feed(m, labels, y, 1);
        if (i) cut = ft_forward(m, true);
        else whole = ft_forward(m, true);
        ft_backward(m);
        ft_get_gradient(m, ft_find(m, "head.weight"), gradient[i], 12);
        ft_update(m, 0);
    }
    CHECK(CLOSE(whole, cut, 1e-6) && whole > 0.5f, "%g, without the padding %g", (double)whole,
          (double)cut);
    for (i = 0; i < 12; ++i)
        CHECK(CLOSE(gradient[0][i], gradient[1][i], 1e-6), "gradient %d: %g, %g", i,
              (double)gradient[0][i], (double)gradient[1][i]);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A layer of self-attention behind a causal convolution, over [N, L, 6]. */
static ft_model *attention_model(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 4});
    int turned[] = {0, 2, 1};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, 6}}), scores;
    x = ft_permute(m, "channels", x, 3, turned);
    x = ft_conv1d(m, "conv", x, 8, (ft_conv1d_options){.kernel = 3, .dilation = 2, .causal = true});
    x = ft_permute(m, "steps", x, 3, turned);
    x = ft_layer_norm(m, "norm", x, (ft_layer_norm_options){.eps = 1e-6f});
    scores = ft_matmul(m, "scores", x, x, (ft_matmul_options){.transpose_b = true});
    scores = ft_activation(m, "softmax", "weights", scores, (ft_activation_options){.axis = 0});
    x = ft_add(m, "residual", x, ft_matmul(m, "mixed", scores, x, (ft_matmul_options){0}));
    ft_set_output(m, x);
    return m;
}

/* The same for any length, alone or in a batch, and after a file; no step of the convolution sees
   a later one. */
static void test_attention(void)
{
    enum { STEPS = 9, IN = 6, OUT = 8 };
    ft_model *m = attention_model(), *again;
    float x[2 * STEPS * IN], both[2 * STEPS * OUT], alone[STEPS * OUT], conv[2][OUT * STEPS];
    int i, c, n;
    for (i = 0; i < 2 * STEPS * IN; ++i) x[i] = value_at(i);
    ft_set_length(m, STEPS);
    ft_run(m, x, 2, both, 2 * STEPS * OUT);
    ft_run(m, x + STEPS * IN, 1, alone, STEPS * OUT);
    CHECK(!memcmp(alone, both + STEPS * OUT, sizeof alone), "alone as in a batch");
    CHECK(ft_save(m, temporary, (ft_save_options){.type = FT_F32}) == FT_OK, "%s",
          ft_error_text(m));
    again = ft_create((ft_desc){.threads = 1});
    ft_load(again, temporary, (ft_load_options){.architecture = NULL});
    ft_set_length(again, STEPS);
    ft_run(again, x, 2, both, 2 * STEPS * OUT);
    CHECK(ft_error(again) == FT_OK && !memcmp(alone, both + STEPS * OUT, sizeof alone),
          "the same from a file: %s", ft_error_text(again));
    ft_set_output(m, ft_find(m, "conv"));
    for (n = STEPS; n >= 4; --n) {
        ft_set_length(m, n);
        ft_run(m, x, 1, conv[n < STEPS], (size_t)(OUT * n));
        for (c = 0; c < OUT; ++c)
            CHECK(!memcmp(conv[0] + c * STEPS, conv[n < STEPS] + c * n, (size_t)n * sizeof(float)),
                  "channel %d of %d steps", c, n);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(again);
    ft_destroy(m);
    remove(temporary);
}

/* What cannot be done along a length that is only known in a run. */
static void test_refused(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 3}});
    int flat[] = {-1}, kept[] = {3, FT_LENGTH};
    ft_flatten(m, "flat", x);
    CHECK(ft_error(m) == FT_SHAPE, "flatten");
    ft_clear_error(m);
    ft_reshape(m, "reshaped", x, 1, flat);
    CHECK(ft_error(m) == FT_SHAPE, "reshape");
    ft_clear_error(m);
    ft_pad(m, "padded", x, (ft_pad_options){.before = {0, 1}});
    CHECK(ft_error(m) == FT_SHAPE, "pad");
    ft_clear_error(m);
    ft_slice(m, "cut", x, (ft_slice_options){.start = {0, 1}});
    CHECK(ft_error(m) == FT_SHAPE, "slice");
    ft_clear_error(m);
    ft_concat(m, "both", 2, (ft_node[]){x, x}, 1);
    CHECK(ft_error(m) == FT_SHAPE, "concat");
    ft_clear_error(m);
    CHECK(ft_reshape(m, "turned", x, 2, kept).id != 0, "%s", ft_error_text(m));
    CHECK(ft_slice(m, "half", x, (ft_slice_options){.stop = {0, 0, 2}}).id, "%s", ft_error_text(m));
    ft_conv1d(m, "shorter", ft_permute(m, "p", x, 3, (int[]){0, 2, 1}), 2,
              (ft_conv1d_options){.kernel = 3});
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "as long"), "conv1d");
    ft_clear_error(m);
    ft_input(m, "negative", (ft_input_options){.size = {-3}});
    CHECK(ft_error(m) == FT_INVALID, "a negative size");
    ft_destroy(m);
}

typedef ft_node (*layer_maker)(ft_model *m, const char *name, ft_node x, int hidden,
                               ft_recurrent_options options);

static const struct { const char *name; layer_maker make; bool reset_before; } layers[] = {
    {"lstm", ft_lstm, false}, {"gru", ft_gru, false}, {"rnn", ft_rnn, false},
    {"gru with reset_before", ft_gru, true}};
enum { LAYERS = sizeof layers / sizeof layers[0] };

/* Padded to one length, each sentence of a batch gives the bits that it gives alone, for every
   kind of layer and pooling, with any number of threads. */
static void test_padding(void)
{
    enum { N = 9, L = 8, WORDS = 13, OUT = 5 };
    int32_t ids[N * L], lengths[N];
    float together[N * OUT], alone[OUT], first[N * OUT];
    int k, n, t, threads;
    for (n = 0; n < N; ++n) {
        lengths[n] = n % L + 1;
        for (t = 0; t < L; ++t) ids[n * L + t] = t < lengths[n] ? (n * 7 + t * 5) % WORDS : 0;
    }
    for (k = 0; k < LAYERS; ++k)
        for (threads = 1; threads <= 5; threads += 2) {
            ft_model *m = ft_create((ft_desc){.threads = threads, .seed = 11});
            ft_node tokens = ft_input(m, "tokens", (ft_input_options){.type = FT_I32,
                                                                      .size = {FT_LENGTH}});
            ft_node real = ft_input(m, "lengths", (ft_input_options){.type = FT_I32}), x, pools[3];
            x = ft_embedding(m, "words", tokens, WORDS, 6, (ft_embedding_options){0});
            x = layers[k].make(m, "rnn", x, 20, (ft_recurrent_options){
                .layers = 2, .bidirectional = true, .lengths = real, .dropout = 0.5f,
                .reset_before = layers[k].reset_before});
            for (n = 0; n < 3; ++n)
                pools[n] = ft_step_pool(m, NULL, x, real, (ft_step_pool_options){
                    .kind = (ft_step_pooling)n, .bidirectional = true});
            x = ft_concat(m, "pools", 3, pools, 1);
            ft_set_output(m, ft_linear(m, "head", x, OUT, (ft_linear_options){0}));
            ft_set_length(m, L);
            ft_run_lengths(m, ids, lengths, N, together, N * OUT);
            CHECK(ft_error(m) == FT_OK && together[0] != together[OUT], "%s: %s", layers[k].name,
                  ft_error_text(m));
            if (threads == 1) memcpy(first, together, sizeof first);
            CHECK(!memcmp(first, together, sizeof first), "%s: %d threads", layers[k].name,
                  threads);
            for (n = 0; n < N; ++n) {
                ft_set_length(m, lengths[n]);
                ft_run(m, ids + n * L, 1, alone, OUT);
                CHECK(!memcmp(alone, together + n * OUT, sizeof alone), "%s: sentence %d alone",
                      layers[k].name, n);
            }
            ft_destroy(m);
        }
}

/* A sequence cut in pieces, its state carried, gives the outputs of the whole; reset, it begins
   anew; and a state that was read can be put back. */
static void test_carried(void)
{
    enum { N = 3, L = 12, IN = 4, H = 7 };
    static const int cuts[] = {0, 1, 5, 6, 12};
    float x[N * L * IN], piece[N * L * IN], whole[N * L * H], got[N * L * H], state[N * H];
    int k, i, n;
    for (i = 0; i < N * L * IN; ++i) x[i] = value_at(i);
    for (k = 0; k < LAYERS; ++k) {
        ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 5});
        ft_node in = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, IN}});
        ft_set_output(m, layers[k].make(m, "rnn", in, H, (ft_recurrent_options){
            .layers = 2, .carry = true, .reset_before = layers[k].reset_before}));
        ft_set_length(m, L);
        ft_run(m, x, N, whole, N * L * H);
        CHECK(ft_reset_state(m, "*") == (k == 0 ? 4 : 2), "%s: states", layers[k].name);
        for (i = 0; i < 4; ++i) {
            int steps = cuts[i + 1] - cuts[i];
            ft_set_length(m, steps);
            for (n = 0; n < N; ++n)
                memcpy(piece + n * steps * IN, x + (n * L + cuts[i]) * IN,
                       (size_t)(steps * IN) * sizeof *x);
            ft_run(m, piece, N, got, (size_t)(N * steps * H));
            for (n = 0; n < N; ++n)
                CHECK(!memcmp(got + n * steps * H, whole + (n * L + cuts[i]) * H,
                              (size_t)(steps * H) * sizeof *got),
                      "%s: piece %d of sequence %d", layers[k].name, i, n);
        }
        ft_get(m, ft_find(m, "rnn.hidden_l1"), state, N * H);
        for (n = 0; n < N; ++n)
            CHECK(!memcmp(state + n * H, whole + (n * L + L - 1) * H, H * sizeof *state),
                  "%s: the state is the last output", layers[k].name);
        ft_set_length(m, L);
        ft_run(m, x, N, got, N * L * H);
        CHECK(memcmp(got, whole, sizeof whole) != 0, "%s: it went on", layers[k].name);
        ft_reset_state(m, "rnn.*");
        ft_run(m, x, N, got, N * L * H);
        CHECK(!memcmp(got, whole, sizeof whole), "%s: reset", layers[k].name);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* One parameter used twice: its gradient is the sum of both uses'. */
static void test_tied(void)
{
    enum { WORDS = 6, E = 3, L = 4 };
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 2});
    ft_node tokens = ft_input(m, "tokens", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    ft_node x = ft_embedding(m, "words", tokens, WORDS, E, (ft_embedding_options){0});
    ft_node weight = ft_find(m, "words.weight");
    int32_t ids[L] = {2, 0, 5, 2}, next[L] = {0, 5, 2, 1};
    float gradient[WORDS * E], value[WORDS * E], kept, loss[2];
    int i, side;
    x = ft_linear(m, "decoder", x, WORDS, (ft_linear_options){.weight = weight});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    ft_set_length(m, L);
    ft_feed(m, tokens, ids, 1);
    ft_feed(m, labels, next, 1);
    ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, weight, gradient, WORDS * E);
    ft_get(m, weight, value, WORDS * E);
    for (i = 0; i < WORDS * E; ++i) {
        kept = value[i];
        for (side = 0; side < 2; ++side) {
            value[i] = kept + (side ? -1e-2f : 1e-2f);
            ft_set(m, weight, value, WORDS * E);
            loss[side] = ft_forward(m, false);
        }
        value[i] = kept;
        CHECK(CLOSE((loss[0] - loss[1]) / 2e-2f, gradient[i], 2e-4), "weight %d: %g, not %g", i,
              (double)gradient[i], (double)(loss[0] - loss[1]) / 2e-2);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A weight that an operator makes: the gradient behind it is the same in every step. */
static void test_made_weight(void)
{
    float x[6], target[8], gradient[2][12];
    ft_model *m[2];
    int step, i, k;
    for (k = 0; k < 2; ++k) {
        ft_node input, goal, weight, one;
        m[k] = ft_create((ft_desc){.threads = 1, .seed = 3});
        input = ft_input(m[k], "x", (ft_input_options){.size = {3}});
        goal = ft_input(m[k], "goal", (ft_input_options){.size = {4}});
        weight = ft_parameter(m[k], "weight", (ft_parameter_options){.size = {4, 3}});
        one = ft_parameter(m[k], "one", (ft_parameter_options){.size = {1},
                                                               .initialiser = FT_INIT_ONES});
        if (k) weight = ft_mul(m[k], "made", weight, one);
        input = ft_linear(m[k], "linear", input, 4, (ft_linear_options){.weight = weight});
        ft_set_output(m[k], input);
        ft_set_loss(m[k], ft_mse(m[k], "loss", input, goal));
    }
    for (step = 0; step < 3; ++step) {
        for (i = 0; i < 6; ++i) x[i] = value_at(i + step);
        for (i = 0; i < 8; ++i) target[i] = value_at(i);
        for (k = 0; k < 2; ++k) {
            ft_feed(m[k], ft_find(m[k], "x"), x, 2);
            ft_feed(m[k], ft_find(m[k], "goal"), target, 2);
            ft_forward(m[k], true);
            ft_backward(m[k]);
            ft_get_gradient(m[k], ft_find(m[k], "weight"), gradient[k], 12);
            ft_update(m[k], 0);
            CHECK(ft_error(m[k]) == FT_OK, "%s", ft_error_text(m[k]));
        }
        for (i = 0; i < 12; ++i)
            CHECK(CLOSE(gradient[0][i], gradient[1][i], 1e-6), "step %d, gradient %d: %g, not %g",
                  step, i, (double)gradient[1][i], (double)gradient[0][i]);
    }
    ft_destroy(m[0]);
    ft_destroy(m[1]);
}

/* ---- An embedding's rows that rest: as if each update had gone through all of them ---- */
enum { REST_WORDS = 40, REST_E = 21, REST_N = 3, REST_L = 4, REST_STEPS = 1200 };

/* Words of a step: small ones often; those from 30 on in the first and the last steps only, so that
   they rest for longer than the library remembers steps; 39 never. */
static void rest_words(int step, int32_t *ids)
{
    int i;
    for (i = 0; i < REST_N * REST_L; ++i) {
        uint32_t r = (uint32_t)(step * 97 + i * 31 + 7) * 2654435761u >> 8;
        bool ends = step < 5 || step >= REST_STEPS - 2;
        ids[i] = ends ? (int32_t)(r % 39) : (int32_t)((r % 30) * (r % 29) / 30);
    }
}

static float rest_target(int step, int i) { return (float)((step * 13 + i * 7) % 101) / 50 - 1; }
static float rest_rate(int step) { return 0.002f + 0.001f * (float)(step % 7); }

/* Adam and AdamW in doubles, through all rows. */
static void rest_oracle(ft_optimizer_options o, const float *first, double *w)
{
    static double m[REST_WORDS * REST_E], v[REST_WORDS * REST_E], g[REST_WORDS * REST_E];
    int32_t ids[REST_N * REST_L];
    int step, i, j;
    memset(m, 0, sizeof m);
    memset(v, 0, sizeof v);
    for (i = 0; i < REST_WORDS * REST_E; ++i) w[i] = (double)first[i];
    for (step = 0; step < REST_STEPS; ++step) {
        double rate = (double)rest_rate(step);
        memset(g, 0, sizeof g);
        rest_words(step, ids);
        for (i = 0; i < REST_N * REST_L; ++i)
            for (j = 0; j < REST_E; ++j)
                g[ids[i] * REST_E + j] += 2 * (w[ids[i] * REST_E + j]
                    - (double)rest_target(step, i * REST_E + j)) / (REST_N * REST_L * REST_E);
        for (i = 0; i < REST_WORDS * REST_E; ++i) {
            if (o.optimizer == FT_ADAMW) w[i] *= 1 - rate * (double)o.weight_decay;
            if (o.optimizer == FT_SGD) {
                w[i] -= 100 * rate * g[i];
                continue;
            }
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            w[i] -= rate * m[i] / (1 - pow(0.9, step + 1))
                / (sqrt(v[i] / (1 - pow(0.999, step + 1))) + 1e-8);
        }
    }
}

/* `looks`: somebody reads the weight, or measures, now and then. */
static void rest_train(ft_optimizer_options o, int threads, bool looks, float *first, float *last)
{
    ft_model *m = ft_create((ft_desc){.threads = threads, .seed = 3});
    ft_node tokens = ft_input(m, "tokens", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    ft_node target = ft_input(m, "target", (ft_input_options){.size = {FT_LENGTH, REST_E}});
    ft_node x = ft_embedding(m, "words", tokens, REST_WORDS, REST_E, (ft_embedding_options){0});
    ft_node weight = ft_find(m, "words.weight");
    int32_t ids[REST_N * REST_L];
    float targets[REST_N * REST_L * REST_E];
    int step, i;
    ft_set_loss(m, ft_mse(m, "loss", x, target));
    ft_get(m, weight, first, REST_WORDS * REST_E);
    ft_set_length(m, REST_L);
    ft_set_optimizer(m, o);
    for (step = 0; step < REST_STEPS; ++step) {
        rest_words(step, ids);
        for (i = 0; i < REST_N * REST_L * REST_E; ++i) targets[i] = rest_target(step, i);
        ft_feed(m, tokens, ids, REST_N);
        ft_feed(m, target, targets, REST_N);
        if (looks && step % 50 == 20) ft_forward(m, false);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, rest_rate(step) * (o.optimizer == FT_SGD ? 100 : 1));
        if (looks && step % 37 == 5) ft_get(m, weight, last, REST_WORDS * REST_E);
        if (looks && step == 77) ft_freeze(m, "nothing");
    }
    ft_get(m, weight, last, REST_WORDS * REST_E);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_resting_rows(void)
{
    static const ft_optimizer_options optimizers[] = {
        {.optimizer = FT_ADAM}, {.optimizer = FT_ADAMW, .weight_decay = 0.1f},
        {.optimizer = FT_SGD}};
    static float first[REST_WORDS * REST_E], last[REST_WORDS * REST_E], other[REST_WORDS * REST_E];
    static double want[REST_WORDS * REST_E];
    size_t k;
    int i, threads;
    for (k = 0; k < sizeof optimizers / sizeof optimizers[0]; ++k) {
        rest_train(optimizers[k], 1, false, first, last);
        rest_oracle(optimizers[k], first, want);
        for (i = 0; i < REST_WORDS * REST_E; ++i)
            CHECK(CLOSE(last[i], want[i], 1e-4), "optimizer %d, word %d: %g, %g", (int)k,
                  i / REST_E, (double)last[i], want[i]);
        for (threads = 1; threads <= 5; threads += 2) {
            rest_train(optimizers[k], threads, threads > 1, first, other);
            CHECK(!memcmp(last, other, sizeof last), "optimizer %d: the same bits with %d threads,"
                  " looked at or not", (int)k, threads);
        }
    }
}

/* Locked dropout: the same features of every step of a sequence; over an embedding, whole words;
   weight drop changes a training run and not an evaluation. */
static void test_dropouts(void)
{
    enum { N = 20, L = 5, C = 30 };
    static float x[N * L * C], y[N * L * C];
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 9});
    ft_node in = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, C}}), drop, scale;
    ft_dropout_options locked = {.probability = 0.4f, .locked = true};
    int i, n, t, zeros = 0;
    float *value;
    for (i = 0; i < N * L * C; ++i) x[i] = 1;
    scale = ft_parameter(m, "scale", (ft_parameter_options){.size = {1},
                                                            .initialiser = FT_INIT_ONES});
    drop = ft_dropout(m, "drop", ft_mul(m, "scaled", in, scale), locked);
    ft_set_output(m, drop);
    ft_set_loss(m, ft_mse(m, "loss", drop, in));
    ft_set_length(m, L);
    ft_feed(m, in, x, N);
    ft_forward(m, true);
    ft_get(m, drop, y, N * L * C);
    for (n = 0; n < N; ++n)
        for (t = 0; t < L; ++t)
            for (i = 0; i < C; ++i) {
                value = &y[(n * L + t) * C + i];
                zeros += *value == 0;
                if (*value != y[n * L * C + i] || (*value != 0 && !CLOSE(*value, 1 / 0.6, 1e-6)))
                    CHECK(false, "sequence %d, step %d, feature %d: %g", n, t, i, (double)*value);
            }
    CHECK(fabs(zeros / (double)(N * L * C) - 0.4) < 0.07 && zeros % L == 0, "%d zeros", zeros);
    CHECK(memcmp(y, y + L * C, L * C * sizeof *y) != 0, "sequences differ");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_weight_drop(void)
{
    enum { L = 6, C = 4 };
    float x[L * C], loss[4];
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 9});
    ft_node in = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, C}}), y;
    int i;
    for (i = 0; i < L * C; ++i) x[i] = value_at(i);
    y = ft_lstm(m, "rnn", in, C, (ft_recurrent_options){.weight_drop = 0.5f});
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, in));
    ft_set_length(m, L);
    ft_feed(m, in, x, 1);
    for (i = 0; i < 4; ++i) loss[i] = ft_forward(m, i < 2);
    CHECK(loss[0] != loss[1] && loss[2] == loss[3] && loss[1] != loss[2],
          "losses %g %g in training, %g %g in evaluation", (double)loss[0], (double)loss[1],
          (double)loss[2], (double)loss[3]);
    CHECK(ft_find(m, "rnn.weight_hh_l0").id != 0, "the parameter keeps PyTorch's name");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A model file keeps layers, options and carried states. */
static void test_file(void)
{
    enum { N = 2, L = 5, IN = 3, H = 4 };
    float x[N * L * IN], want[N * L * H], got[N * L * H];
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 5}), *again;
    ft_node in = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, IN}});
    int i;
    for (i = 0; i < N * L * IN; ++i) x[i] = value_at(i);
    ft_set_output(m, ft_gru(m, "rnn", in, H, (ft_recurrent_options){.layers = 2, .carry = true}));
    ft_set_length(m, L);
    ft_run(m, x, N, want, N * L * H);
    CHECK(ft_save(m, temporary, (ft_save_options){.type = FT_F32}) == FT_OK, "%s", ft_error_text(m));
    again = ft_create((ft_desc){.threads = 2});
    ft_load(again, temporary, (ft_load_options){.architecture = NULL});
    ft_set_length(again, L);
    ft_run(again, x, N, got, N * L * H);
    CHECK(ft_error(again) == FT_OK && !memcmp(got, want, sizeof want), "%s", ft_error_text(again));
    CHECK(ft_reset_state(again, "*") == 2, "carried states are in the file");
    ft_destroy(again);
    ft_destroy(m);
    remove(temporary);
}

/* ---- Networks by name ---- */

enum { NETWORK_N = 3, NETWORK_L = 6 };

/* Some tokens, and how many of each row are real. */
static void some_tokens(int32_t *ids, int32_t *lengths, int words)
{
    int i;
    for (i = 0; i < NETWORK_N; ++i) lengths[i] = NETWORK_L - 2 * i;
    for (i = 0; i < NETWORK_N * NETWORK_L; ++i)
        ids[i] = i % NETWORK_L < lengths[i / NETWORK_L] ? (i * 5 + 1) % words : 0;
}

/* Built by name, saved, and recognised from names and shapes alone: the same outputs. */
static void test_networks(void)
{
    static const struct { const char *name; ft_network_options o; int outputs; } rows[] = {
        {"lstm_classifier", {.words = 20, .embedding = 5, .hidden = 6, .layers = 2,
                             .bidirectional = true, .classes = 4}, 4},
        {"lstm_classifier", {.words = 20, .embedding = 5, .hidden = 6, .pooling = FT_POOL_ALL}, 2},
        {"gru_classifier", {.words = 20, .embedding = 5, .hidden = 7, .classes = 3}, 3},
        {"lstm_lm", {.words = 20, .embedding = 6, .tied = true}, 20},
        {"lstm_lm", {.words = 20, .embedding = 6, .hidden = 5, .dropout = 0.2f}, 20},
        {"char_rnn", {.words = 20, .hidden = 9}, 20}};
    int32_t ids[NETWORK_N * NETWORK_L], lengths[NETWORK_N];
    float want[NETWORK_N * NETWORK_L * 20], got[NETWORK_N * NETWORK_L * 20];
    size_t i;
    some_tokens(ids, lengths, 20);
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 4}), *again;
        int steps = rows[i].outputs == 20 ? NETWORK_L : 1;
        const int *real = rows[i].outputs == 20 ? NULL : lengths; /* a language model has none */
        size_t bytes = (size_t)(NETWORK_N * steps * rows[i].outputs) * sizeof(float);
        ft_network(m, rows[i].name, rows[i].o);
        ft_set_length(m, NETWORK_L);
        ft_run_lengths(m, ids, real, NETWORK_N, want, bytes / sizeof(float));
        ft_save(m, temporary, (ft_save_options){.type = FT_F32});
        CHECK(ft_error(m) == FT_OK, "%s: %s", rows[i].name, ft_error_text(m));
        again = ft_create((ft_desc){.threads = 1});
        ft_load(again, temporary, (ft_load_options){.architecture = rows[i].name});
        ft_set_length(again, NETWORK_L);
        ft_run_lengths(again, ids, real, NETWORK_N, got, bytes / sizeof(float));
        CHECK(ft_error(again) == FT_OK && !memcmp(want, got, bytes), "%s: %s", rows[i].name,
              ft_error_text(again));
        CHECK(!strcmp(ft_architecture(again), rows[i].name), "%s", ft_architecture(again));
        ft_destroy(again);
        ft_destroy(m);
        remove(temporary);
    }
}

/* Words of another vocabulary join the model's, each as the mean of the rows that there were; texts
   that have none of them are classified as before. */
static void test_new_words(void)
{
    enum { E = 6 };
    static const char *const old_texts[] = {"the soup was warm"};
    static const char *const new_texts[] = {"the bread was warm and the crust crisp"};
    static const char known[] = "the soup was warm", partly[] = "the bread was crisp";
    ft_language_model_to_classifier_options o = {.dropout = 0.1f};
    ft_prediction want[2], got[2];
    float before[16 * E], after[16 * E];
    int tied, old, i, j;
    for (tied = 0; tied < 2; ++tied) {
        ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 4}), *plain, *again;
        ft_network_options n = {.embedding = E, .hidden = E, .tied = tied, .dropout = 0.2f};
        ft_set_tokenizer(m, ft_tokenizer_build(m, FT_WORDS, old_texts, 1,
                                               (ft_vocabulary_options){0}));
        n.words = old = ft_tokenizer_count(ft_get_tokenizer(m));
        ft_network(m, "lstm_lm", n);
        ft_get(m, ft_find(m, "embedding.weight"), before, (size_t)(old * E));
        ft_save(m, temporary, (ft_save_options){.type = FT_F32});
        o.new_words = ft_tokenizer_build(m, FT_WORDS, new_texts, 1, (ft_vocabulary_options){0});
        ft_language_model_to_classifier(m, 2, o);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        CHECK(old == 7 && ft_tokenizer_count(ft_get_tokenizer(m)) == 11
              && ft_tokenizer_find(ft_get_tokenizer(m), "soup") < old
              && ft_tokenizer_find(ft_get_tokenizer(m), "crisp") >= old,
              "%d words", ft_tokenizer_count(ft_get_tokenizer(m)));
        ft_get(m, ft_find(m, "embedding.weight"), after, 11 * E);
        CHECK(!memcmp(before, after, (size_t)(old * E) * sizeof *before), "words keep their rows");
        for (j = 0; j < E; ++j) {
            double mean = 0;
            for (i = 0; i < old; ++i) mean += (double)before[i * E + j] / old;
            for (i = old; i < 11; ++i)
                CHECK(CLOSE(after[i * E + j], mean, 1e-6), "word %d: %g, %g", i,
                      (double)after[i * E + j], mean);
        }
        plain = ft_create((ft_desc){.threads = 1, .seed = 4}); /* without new words */
        ft_load(plain, temporary, (ft_load_options){.architecture = NULL});
        o.new_words = NULL;
        ft_language_model_to_classifier(plain, 2, o);
        ft_predict_text(plain, known, strlen(known), want, 2);
        ft_predict_text(m, known, strlen(known), got, 2);
        CHECK(ft_error(plain) == FT_OK && want[0].class_index == got[0].class_index
              && CLOSE(want[0].probability, got[0].probability, 1e-6), "%s", ft_error_text(plain));
        ft_predict_text(m, partly, strlen(partly), want, 2);
        ft_save(m, temporary, (ft_save_options){.type = FT_F32});
        again = ft_create((ft_desc){.threads = 1});
        ft_load(again, temporary, (ft_load_options){.architecture = NULL});
        ft_predict_text(again, partly, strlen(partly), got, 2);
        CHECK(ft_error(again) == FT_OK && CLOSE(want[0].probability, got[0].probability, 1e-6),
              "%s", ft_error_text(again));
        ft_destroy(again);
        ft_destroy(plain);
        ft_destroy(m);
        remove(temporary);
    }
}

/* What new words need is said, and the language model is as it was. */
static void test_new_words_refused(void)
{
    static const char *const texts[] = {"the soup was warm"};
    ft_model *m = ft_create((ft_desc){.threads = 1}), *other = ft_create((ft_desc){.threads = 1});
    ft_network_options n = {.words = 9, .embedding = 4, .hidden = 4};
    ft_language_model_to_classifier_options o = {0};
    int i;
    ft_network(m, "lstm_lm", n);
    for (i = 0; i < 3; ++i) { /* no vocabulary; not of words; an embedding of other words */
        o.new_words = ft_tokenizer_build(m, i == 1 ? FT_CHARACTERS : FT_WORDS, texts, 1,
                                         (ft_vocabulary_options){0});
        if (i == 1) ft_set_tokenizer(m, ft_tokenizer_build(m, FT_WORDS, texts, 1,
                                                           (ft_vocabulary_options){0}));
        CHECK(ft_language_model_to_classifier(m, 2, o) == FT_INVALID
              && strstr(ft_error_text(m), "new words"), "%d: %s", i, ft_error_text(m));
        ft_clear_error(m);
    }
    o.new_words = ft_tokenizer_build(other, FT_WORDS, texts, 1, (ft_vocabulary_options){0});
    CHECK(ft_language_model_to_classifier(m, 2, o) == FT_INVALID, "of another model");
    ft_clear_error(m);
    CHECK(ft_find(m, "decoder.weight").id && !ft_find(m, "lengths").id, "it is as it was");
    ft_destroy(other);
    ft_destroy(m);
}

/* The classifier has the language model's encoder: its pools are those of the outputs of each
   sentence from a zero state; it trains; and it goes through a file. */
static void test_to_classifier(void)
{
    enum { H = 5, CLASSES = 2 };
    int32_t ids[NETWORK_N * NETWORK_L], lengths[NETWORK_N], labels[NETWORK_N] = {1, 0, 1};
    float logits[NETWORK_N * CLASSES], again_logits[NETWORK_N * CLASSES], losses[40];
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 4}), *again;
    ft_network_options o = {.words = 20, .embedding = 6, .hidden = H};
    int i;
    some_tokens(ids, lengths, 20);
    ft_network(m, "lstm_lm", o);
    ft_language_model_to_classifier(m, CLASSES, (ft_language_model_to_classifier_options){
        .hidden = 8, .dropout = 0.1f});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(!ft_find(m, "decoder").id && !ft_find(m, "decoder.weight").id
          && !ft_find(m, "lstm.hidden_l0").id && ft_find(m, "embedding.weight").id,
          "the head and the states are gone, the encoder is there");
    ft_set_length(m, NETWORK_L);
    ft_run_lengths(m, ids, lengths, NETWORK_N, logits, NETWORK_N * CLASSES);
    ft_run_lengths(m, ids, lengths, NETWORK_N, again_logits, NETWORK_N * CLASSES);
    CHECK(!memcmp(logits, again_logits, sizeof logits), "nothing is carried");
    for (i = 0; i < NETWORK_N; ++i) {
        ft_set_length(m, lengths[i]);
        ft_run(m, ids + i * NETWORK_L, 1, again_logits, CLASSES);
        CHECK(!memcmp(logits + i * CLASSES, again_logits, CLASSES * sizeof(float)),
              "sentence %d alone", i);
    }
    ft_set_length(m, NETWORK_L);
    for (i = 0; i < 40; ++i) {
        ft_feed(m, ft_find(m, "tokens"), ids, NETWORK_N);
        ft_feed(m, ft_find(m, "lengths"), lengths, NETWORK_N);
        ft_feed(m, ft_find(m, "labels"), labels, NETWORK_N);
        losses[i] = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0.02f);
    }
    CHECK(losses[39] < 0.5f * losses[0], "loss %g, at first %g", (double)losses[39],
          (double)losses[0]);
    ft_run_lengths(m, ids, lengths, NETWORK_N, logits, NETWORK_N * CLASSES);
    ft_save(m, temporary, (ft_save_options){.type = FT_F32});
    again = ft_create((ft_desc){.threads = 1});
    ft_load(again, temporary, (ft_load_options){.architecture = NULL});
    ft_set_length(again, NETWORK_L);
    ft_run_lengths(again, ids, lengths, NETWORK_N, again_logits, NETWORK_N * CLASSES);
    CHECK(ft_error(again) == FT_OK && !memcmp(logits, again_logits, sizeof logits), "file: %s",
          ft_error_text(again));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_language_model_to_classifier(m, 2, (ft_language_model_to_classifier_options){0});
    CHECK(ft_error(m) == FT_INVALID, "a classifier is no language model");
    ft_destroy(again);
    ft_destroy(m);
    remove(temporary);
}

/* ---- The published character network, on the text that it has learnt ---- */

static char *read_all(const char *folder, const char *name, size_t *bytes)
{
    char path[700], *text;
    FILE *file;
    long size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    fseek(file, 0, SEEK_SET);
    text = (char *)calloc((size_t)size + 1, 1);
    *bytes = fread(text, 1, (size_t)size, file);
    fclose(file);
    return text;
}

/* The vocabulary is a JSON list of characters: the number of each. */
static void read_vocabulary(const char *json, int *number)
{
    int count = 0;
    const char *at;
    for (at = strchr(json, '['); at && (at = strchr(at, '"')) != NULL; at += 2) {
        at += 1;
        if (*at == '\\') at += 1;
        number[(unsigned char)(at[-1] == '\\' && *at == 'n' ? '\n' : *at)] = count++;
    }
}

static int largest_of(const float *scores, int count)
{
    int best = 0, i;
    for (i = 1; i < count; ++i)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* PyTorch: 1.29584 nats a character and 59.93 % right, 64 streams, state carried. */
static void test_shakespeare(void)
{
    enum { STREAMS = 64, STEPS = 256 };
    static int32_t tokens[STREAMS * STEPS], labels[STREAMS * STEPS];
    const char *data = getenv("FINETUNE_DATA") ? getenv("FINETUNE_DATA") : "../shared/data";
    size_t bytes = 0, length, done, steps, n, t, right = 0, counted = 0;
    char path[700], *json = read_all(data, "weights/charrnn_shakespeare.vocab.json", &bytes);
    char *text = read_all(data, "text/tinyshakespeare.txt", &bytes);
    int number[256] = {0};
    double nats = 0;
    float *logits = (float *)malloc(sizeof(float) * STREAMS * STEPS * 65);
    ft_model *m = ft_create((ft_desc){.threads = 0});
    snprintf(path, sizeof path, "%s/weights/charrnn_shakespeare.safetensors", data);
    if (!json || !text) SKIP("no FINETUNE_DATA");
    else {
        read_vocabulary(json, number);
        ft_load(m, path, (ft_load_options){.architecture = NULL});
        CHECK(ft_error(m) == FT_OK && !strcmp(ft_architecture(m), "char_rnn"), "%s",
              ft_error_text(m));
        length = (bytes - 1) / STREAMS;
        for (done = 0; done < length; done += steps) {
            steps = length - done < STEPS ? length - done : STEPS;
            for (n = 0; n < STREAMS; ++n)
                for (t = 0; t < steps; ++t) {
                    const char *at = text + n * length + done + t;
                    tokens[n * steps + t] = number[(unsigned char)at[0]];
                    labels[n * steps + t] = number[(unsigned char)at[1]];
                }
            ft_set_length(m, (int)steps);
            ft_feed(m, ft_find(m, "tokens"), tokens, STREAMS);
            ft_feed(m, ft_find(m, "labels"), labels, STREAMS);
            nats += (double)ft_forward(m, false) * (double)(steps * STREAMS);
            ft_get(m, ft_output(m), logits, steps * STREAMS * 65);
            for (n = 0; n < steps * STREAMS; ++n)
                right += largest_of(logits + n * 65, 65) == labels[n];
            counted += steps * STREAMS;
        }
        CHECK(CLOSE(nats / (double)counted, 1.2958, 0.0002), "%.5f nats a character",
              nats / (double)counted);
        CHECK(CLOSE(100.0 * (double)right / (double)counted, 59.93, 0.005), "%.3f %% right",
              100.0 * (double)right / (double)counted);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    }
    ft_destroy(m);
    free(logits);
    free(text);
    free(json);
}

int main(void)
{
    test_networks();
    test_to_classifier();
    test_new_words();
    test_resting_rows();
    test_new_words_refused();
    test_shakespeare();
    test_padding();
    test_carried();
    test_tied();
    test_made_weight();
    test_dropouts();
    test_weight_drop();
    test_file();
    test_lengths();
    test_padded_loss();
    test_many_classes();
    test_attention();
    test_refused();
    return check_done("test_sequences");
}
