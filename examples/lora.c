/* lora.c - LoRA by hand.

   To fine-tune a large network on a small task, LoRA (Hu et al. 2021) leaves its weights W alone
   and trains a product of two thin matrices beside them: y = W x + b + s B A x, A [rank, in] and B
   [out, rank]. B starts as zeros, so that at first nothing changes. W has no gradient and no
   optimiser state; the adapter is a small file; and W + s B A is a layer like any other, as fast as
   before. Here a network that was trained on one task learns another one so: first with the adapter
   built from nodes, then by ft_lora and ft_merge. Every bit must be the same.

     build/lora */
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { COUNT = 128, WIDTH = 64, RANK = 4, STEPS = 300 };
static const float alpha = 8;
static const char base[] = "build/lora_base.safetensors", layer[] = "hidden2";

/* Points in a square; a circle separates those of task 0, an ellipse that lies elsewhere those of
   task 1. */
static void points(int task, float (*x)[2], int32_t *labels)
{
    unsigned state = 1;
    for (int i = 0; i < COUNT; ++i) {
        for (int d = 0; d < 2; ++d) {
            state = state * 1664525u + 1013904223u;
            x[i][d] = (float)(state >> 8) / (1 << 23) - 1;
        }
        float a = x[i][0] - 0.4f * (float)task, b = x[i][1] * (task ? 0.6f : 1);
        labels[i] = a * a + b * b < 0.4f;
    }
}

/* Trains what is not frozen; returns the share of points that are right then. */
static float train(ft_model *m, int task, int steps)
{
    static float x[COUNT][2], logits[COUNT][2];
    static int32_t labels[COUNT];
    int right = 0;
    points(task, x, labels);
    for (int step = 0; step <= steps; ++step) {
        ft_feed(m, ft_find(m, "x"), x, COUNT);
        ft_feed(m, ft_find(m, "labels"), labels, COUNT);
        ft_forward(m, step < steps);
        if (step < steps) ft_backward(m);
        if (step < steps) ft_update(m, 0.01f);
    }
    ft_get(m, ft_output(m), &logits[0][0], 2 * COUNT);
    for (int i = 0; i < COUNT; ++i) right += (logits[i][1] > logits[i][0]) == labels[i];
    return (float)right / COUNT;
}

static void pretrain(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {2}});
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    ft_linear_options none = {0};
    x = ft_activation(m, "tanh", NULL, ft_linear(m, "hidden1", x, WIDTH, none), (ft_activation_options){0});
    x = ft_activation(m, "tanh", NULL, ft_linear(m, "hidden2", x, WIDTH, none), (ft_activation_options){0});
    x = ft_linear(m, "out", x, 2, none);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    printf("the base, on its own task: %.1f %% right", 100 * (double)train(m, 0, STEPS));
    printf("; on the new one: %.1f %%\n", 100 * (double)train(m, 1, 0));
    ft_save(m, base, (ft_save_options){0});
    if (ft_error(m)) puts(ft_error_text(m));
    ft_destroy(m);
}

/* x -> B (s A x), added to what the layer gives: whatever read the layer reads the sum. */
static void adapt_by_hand(ft_model *m)
{
    ft_node y = ft_find(m, layer), in[3], x;
    ft_linear_options plain = {.no_bias = true};
    ft_node_inputs(m, y, in, 3); /* x, weight, bias */
    x = ft_linear(m, "hidden2.lora_A", in[0], RANK, plain);
    x = ft_unary(m, "affine", "hidden2.lora_scale", x, (ft_unary_options){.scale = alpha / RANK});
    plain.initialiser = FT_INIT_ZEROS;
    x = ft_linear(m, "hidden2.lora_B", x, WIDTH, plain);
    ft_replace(m, y, ft_add(m, "hidden2.lora", y, x));
    ft_freeze(m, "*");
    ft_unfreeze(m, "*.lora_A.weight,*.lora_B.weight,out.*"); /* and the head */
}

/* The base again, with the head that was trained and W + s B A as its weight. */
static ft_model *merge_by_hand(ft_model *from)
{
    static float w[WIDTH][WIDTH], a[RANK][WIDTH], b[WIDTH][RANK], head[2][WIDTH], bias[2];
    ft_model *m = ft_create((ft_desc){.seed = 2});
    ft_load(m, base, (ft_load_options){0});
    ft_get(from, ft_find(from, "hidden2.weight"), &w[0][0], WIDTH * WIDTH);
    ft_get(from, ft_find(from, "hidden2.lora_A.weight"), &a[0][0], RANK * WIDTH);
    ft_get(from, ft_find(from, "hidden2.lora_B.weight"), &b[0][0], WIDTH * RANK);
    ft_get(from, ft_find(from, "out.weight"), &head[0][0], 2 * WIDTH);
    ft_get(from, ft_find(from, "out.bias"), bias, 2);
    for (int i = 0; i < WIDTH; ++i)
        for (int j = 0; j < WIDTH; ++j) {
            double sum = 0;
            for (int r = 0; r < RANK; ++r) sum += (double)b[i][r] * (double)a[r][j];
            w[i][j] = (float)((double)w[i][j] + (double)(alpha / RANK) * sum);
        }
    ft_set(m, ft_find(m, "hidden2.weight"), &w[0][0], WIDTH * WIDTH);
    ft_set(m, ft_find(m, "out.weight"), &head[0][0], 2 * WIDTH);
    ft_set(m, ft_find(m, "out.bias"), bias, 2);
    return m;
}

static bool same_logits(const char *what, ft_model *m, ft_model *other)
{
    static float logits[2][COUNT][2];
    float right[2] = {train(m, 1, 0), train(other, 1, 0)};
    bool same;
    ft_get(m, ft_output(m), &logits[0][0][0], 2 * COUNT);
    ft_get(other, ft_output(other), &logits[1][0][0], 2 * COUNT);
    same = memcmp(logits[0], logits[1], sizeof logits[0]) == 0 && !ft_error(m) && !ft_error(other);
    printf("%s: %.1f %% right by hand, %.1f %% by ft_lora: %s\n", what, 100 * (double)right[0],
           100 * (double)right[1], same ? "the same bits" : "NOT the same bits");
    if (ft_error(m)) puts(ft_error_text(m));
    if (ft_error(other)) puts(ft_error_text(other));
    return same;
}

int main(void)
{
    ft_model *hand = ft_create((ft_desc){.seed = 2}), *own = ft_create((ft_desc){.seed = 2}), *merged;
    bool same;
    pretrain();
    ft_load(hand, base, (ft_load_options){0});
    adapt_by_hand(hand);
    ft_load(own, base, (ft_load_options){0});
    ft_lora(own, layer, (ft_lora_options){.rank = RANK, .alpha = alpha});
    train(hand, 1, STEPS);
    train(own, 1, STEPS);
    same = same_logits("with the adapter", hand, own);
    merged = merge_by_hand(hand);
    ft_merge(own, (ft_merge_options){0});
    same = same_logits("merged", merged, own) && same;
    ft_destroy(hand);
    ft_destroy(merged);
    ft_destroy(own);
    return same ? 0 : 1;
}
