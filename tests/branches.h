/* branches.h - a network for test_memory.c, whose values can be recomputed in backward. */
#ifndef BRANCHES_H
#define BRANCHES_H

#include <stdio.h>

#include "finetune.h"

enum { SIDE = 12, PIXELS = 3 * SIDE * SIDE };

/* Three times two branches and a sum, with everything that keeps values for backward or has state:
   batch norm, dropout, pooling, several activations; and skip connections. `width`: channels; from
   32 on, batch norms before convolutions are not kept. `with_state` adds an LSTM, at a width of 8,
   whose state is carried from step to step. */
static inline void build_branches(ft_model *m, int width, bool with_state)
{
    ft_input_options picture = {.size = {3, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_pool2d_options pool = {.kernel = {2}, .stride = {1}};
    ft_batch_norm_options norm = {.eps = 0};
    ft_linear_options linear = {.no_bias = false};
    ft_activation_options none = {.slope = 0};
    ft_recurrent_options carried = {.carry = true};
    const int steps[] = {36, 32}, maps[] = {8, SIDE, SIDE}; /* for a width of 8 */
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

#endif
