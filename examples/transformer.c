/* transformer.c - attention, written out, and a small GPT.

   In a transformer each step of a sequence reads the others by attention: it has a query q, and each
   step offers a key k and a value v. The result is the mean of the values, weighted by how well
   their keys fit the query: softmax(q k^T / sqrt(d)) v, in several heads side by side (Vaswani et
   al. 2017). The first part builds that from products and a softmax, and compares it with
   ft_attention, which keeps no scores. The second part, layers as GPT-2's (Radford et al. 2019),
   learns a text letter by letter, then writes.

     build/transformer [TEXT [EPOCHS]]      without TEXT: examples/text/harbour.txt, 10 seconds */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { STEPS = 64, FEATURES = 64, HEADS = 4, SIZE = FEATURES / HEADS, LAYERS = 2 };
enum { BATCH = 3, COUNT = BATCH * STEPS * FEATURES };

/* ---- Attention from its parts ---- */

/* [N, T, heads * d] -> [N, heads, T, d] */
static ft_node split_heads(ft_model *m, const char *name, ft_node x)
{
    int size[3] = {STEPS, HEADS, SIZE}, order[4] = {0, 2, 1, 3};
    return ft_permute(m, name, ft_reshape(m, NULL, x, 3, size), 4, order);
}

static ft_node attention_by_hand(ft_model *m, ft_node q, ft_node k, ft_node v)
{
    static float mask[STEPS * STEPS]; /* added to the scores: no step sees a later one */
    int square[2] = {STEPS, STEPS}, joined[2] = {STEPS, FEATURES}, order[4] = {0, 2, 1, 3};
    ft_node scores;
    for (int i = 0; i < STEPS * STEPS; ++i) mask[i] = i % STEPS > i / STEPS ? -1e9f : 0;
    q = split_heads(m, "q_heads", q);
    k = split_heads(m, "k_heads", k);
    v = split_heads(m, "v_heads", v);
    scores = ft_matmul(m, "scores", q, k, (ft_matmul_options){.transpose_b = true});
    scores = ft_unary(m, "affine", "scaled", scores, (ft_unary_options){.scale = 1 / sqrtf(SIZE)});
    scores = ft_add(m, "masked", scores, ft_constant(m, "mask", 2, square, mask));
    scores = ft_activation(m, "softmax", "shares", scores, (ft_activation_options){0});
    v = ft_matmul(m, "means", scores, v, (ft_matmul_options){0});
    return ft_reshape(m, "joined", ft_permute(m, NULL, v, 4, order), 2, joined);
}

/* Both ways: is the result the same, and are the gradients of q, k and v? */
static bool compare(void)
{
    static float numbers[2][4][COUNT];
    for (int way = 0; way < 2; ++way) {
        ft_model *m = ft_create((ft_desc){0});
        ft_node in[4], y;
        for (int n = 0; n < 4; ++n) { /* the fourth is what the result should be */
            in[n] = ft_input(m, NULL, (ft_input_options){.size = {STEPS, FEATURES}});
            for (int i = 0; i < COUNT; ++i) numbers[way][n][i] = sinf((float)((n + 1) * i));
            ft_feed(m, in[n], numbers[way][n], BATCH);
            if (n < 3) ft_want_gradient(m, in[n]);
        }
        y = way ? ft_attention(m, NULL, in[0], in[1], in[2], (ft_attention_options){.heads = HEADS, .causal = true})
                : attention_by_hand(m, in[0], in[1], in[2]);
        ft_set_loss(m, ft_mse(m, "loss", y, in[3]));
        ft_keep(m, y);
        ft_forward(m, true);
        ft_backward(m);
        for (int n = 0; n < 3; ++n) ft_get_gradient(m, in[n], numbers[way][n], COUNT);
        ft_get(m, y, numbers[way][3], COUNT);
        ft_destroy(m);
    }
    for (int n = 0; n < 4; ++n) {
        float largest = 0, off = 0;
        for (int i = 0; i < COUNT; ++i) {
            largest = fmaxf(largest, fabsf(numbers[0][n][i]));
            off = fmaxf(off, fabsf(numbers[0][n][i] - numbers[1][n][i]));
        }
        printf("%s by hand: up to %.2g; ft_attention's is off by %.1g\n",
               n < 3 ? (const char *[]){"dq", "dk", "dv"}[n] : "attention", largest, off);
        if (!(off <= 1e-5f * largest)) return false;
    }
    return true;
}

/* ---- A small GPT ---- */

/* x + attention(norm(x)), then x + mlp(norm(x)): each layer adds to what flows through. Weights are
   found by their names: "layer0.query.weight" and so on. */
static ft_node layer(ft_model *m, int number, ft_node x)
{
    static const char *const parts[] = {"query", "key", "value", "output", "up", "down", "norm1", "norm2"};
    ft_linear_options none = {0};
    char name[8][32];
    ft_node y, q, k, v;
    for (int i = 0; i < 8; ++i) snprintf(name[i], sizeof name[i], "layer%d.%s", number, parts[i]);
    y = ft_layer_norm(m, name[6], x, (ft_layer_norm_options){0});
    q = ft_linear(m, name[0], y, FEATURES, none);
    k = ft_linear(m, name[1], y, FEATURES, none);
    v = ft_linear(m, name[2], y, FEATURES, none);
    y = ft_attention(m, NULL, q, k, v, (ft_attention_options){.heads = HEADS, .causal = true});
    x = ft_add(m, NULL, x, ft_linear(m, name[3], y, FEATURES, none));
    y = ft_linear(m, name[4], ft_layer_norm(m, name[7], x, (ft_layer_norm_options){0}), 4 * FEATURES, none);
    y = ft_activation(m, "gelu", NULL, y, (ft_activation_options){0});
    return ft_add(m, NULL, x, ft_linear(m, name[5], y, FEATURES, none));
}

static void build(ft_model *m)
{
    ft_input_options steps = {.type = FT_I32, .size = {FT_LENGTH}};
    int letters = ft_tokenizer_count(ft_get_tokenizer(m));
    ft_node tokens = ft_input(m, "tokens", steps), labels = ft_input(m, "labels", steps);
    ft_node x = ft_embedding(m, "embedding", tokens, letters, FEATURES, (ft_embedding_options){0});
    x = ft_add_positions(m, "positions", x, STEPS, (ft_add_positions_options){0});
    for (int i = 0; i < LAYERS; ++i) x = layer(m, i, x);
    x = ft_layer_norm(m, "norm", x, (ft_layer_norm_options){0});
    x = ft_linear(m, "head", x, letters, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
}

static bool print_piece(void *user, const char *text, size_t bytes)
{
    return fwrite(text, 1, bytes, stdout) == bytes && !user;
}

int main(int count, char **words)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    const char *path = count > 1 ? words[1] : "examples/text/harbour.txt";
    ft_data *text = ft_text_streams(m, path, (ft_stream_options){.streams = 16, .steps = STEPS});
    ft_fit_options fit = {.epochs = count > 2 ? atoi(words[2]) : 12, .schedule = FT_ONE_CYCLE, .fixed_momentum = true};
    bool right = compare();
    fit.optimizer = (ft_optimizer_options){.learning_rate = 5e-3f, .clip_norm = 1};
    build(m);
    ft_fit(m, text, fit);
    printf("%.3f nats a letter\n", ft_evaluate(m, text, (ft_evaluate_options){0}).loss);
    printf("The ");
    ft_generate(m, (ft_generate_options){.prompt = "The ", .length = STEPS - 4, .greedy = true, .piece = print_piece});
    puts("");
    if (ft_error(m)) right = false, puts(ft_error_text(m));
    ft_destroy(m);
    return right ? 0 : 1;
}
