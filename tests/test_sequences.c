/* test_sequences.c - networks over sequences: lengths that differ from run to run, padding, state
   that is carried, networks made by name. The operators themselves are in test_operators.c. */
#include "check.h"

#define FINETUNE_IMPLEMENTATION
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
    ft_run(m, x, 2, whole);
    for (n = 1; n <= 4; ++n) { /* the first n steps of the first sequence */
        ft_set_length(m, n);
        ft_run(m, x, 1, part);
        CHECK(!memcmp(part, whole, (size_t)n * 4 * sizeof(float)), "%d steps", n);
    }
    CHECK(ft_node_shape(m, ft_output(m)).size[1] == FT_LENGTH, "the output has a length");
    CHECK(ft_save(m, temporary, save) == FT_OK, "%s", ft_error_text(m));
    again = ft_create((ft_desc){.threads = 1});
    ft_load(again, temporary, load);
    ft_set_length(again, 7);
    memset(part, 0, sizeof part);
    ft_run(again, x, 1, whole + 28);
    CHECK(ft_error(again) == FT_OK && !memcmp(whole, whole + 28, 28 * sizeof(float)),
          "a model file keeps the length: %s", ft_error_text(again));
    CHECK(ft_set_length(m, 0) == FT_INVALID, "no steps");
    ft_destroy(again);
    ft_destroy(m);
    remove(temporary);
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
    ft_run(m, x, 2, both);
    ft_run(m, x + STEPS * IN, 1, alone);
    CHECK(!memcmp(alone, both + STEPS * OUT, sizeof alone), "alone as in a batch");
    CHECK(ft_save(m, temporary, (ft_save_options){.type = FT_F32}) == FT_OK, "%s",
          ft_error_text(m));
    again = ft_create((ft_desc){.threads = 1});
    ft_load(again, temporary, (ft_load_options){.architecture = NULL});
    ft_set_length(again, STEPS);
    ft_run(again, x, 2, both);
    CHECK(ft_error(again) == FT_OK && !memcmp(alone, both + STEPS * OUT, sizeof alone),
          "the same from a file: %s", ft_error_text(again));
    ft_set_output(m, ft_find(m, "conv"));
    for (n = STEPS; n >= 4; --n) {
        ft_set_length(m, n);
        ft_run(m, x, 1, conv[n < STEPS]);
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

int main(void)
{
    test_lengths();
    test_padded_loss();
    test_attention();
    test_refused();
    return check_done("test_sequences");
}
