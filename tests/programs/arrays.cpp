/* arrays.cpp - two spirals classified with ft_fit; y = sin(x) learnt with the loop by hand.
     c++ -std=c++11 -O2 -I. tests/programs/arrays.cpp build/finetune.o -o build/arrays -lm -pthread */
#include <cmath>
#include <cstdio>
#include <vector>
#include "finetune.h"

static ft_node input(ft_model *m, const char *name, ft_type type, int size)
{
    ft_input_options o{};
    o.type = type; o.size[0] = size;
    return ft_input(m, name, o);
}
static ft_node mlp(ft_model *m, ft_node x, int outputs)
{
    for (const char *name : {"first", "second"})
        x = ft_activation(m, "tanh", nullptr, ft_linear(m, name, x, 32, {}), {});
    x = ft_linear(m, "last", x, outputs, {});
    ft_set_output(m, x);
    return x;
}
int main()
{
    std::vector<float> points(800), x(64), y(64), found(64), gradient(32);
    std::vector<int> labels(400);
    for (int i = 0; i < 400; ++i) {
        float r = 0.1f + float(i / 2) / 222, angle = 9 * r + float(labels[i] = i % 2) * 3.1415927f;
        points[2 * i] = r * std::cos(angle); points[2 * i + 1] = r * std::sin(angle);
    }
    ft_desc desc{}; desc.seed = 1;
    ft_model *m = ft_create(desc);
    ft_node logits = mlp(m, input(m, "input", FT_F32, 2), 2);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, input(m, "labels", FT_I32, 0), {}));
    ft_fit_options fit{};
    fit.epochs = 400; fit.hold_back = 0.25f; fit.best = true; fit.patience = 150; fit.optimizer.learning_rate = 0.01f;
    ft_data *spirals = ft_arrays(m, 400, points.data(), labels.data(), {});
    ft_fit_result r = ft_fit(m, spirals, fit);
    ft_evaluation e = ft_evaluate(m, spirals, {});
    std::printf("spirals: %d epochs; held back %d of %d right, all %d of %d\n%s", r.epochs,
                r.held_back_correct, r.held_back_total, e.correct, e.total, ft_error_text(m));
    ft_destroy(m);

    m = ft_create(desc);
    ft_node in = input(m, "input", FT_F32, 1), target = input(m, "target", FT_F32, 1);
    ft_set_loss(m, ft_mse(m, "loss", mlp(m, in, 1), target));
    for (int i = 0; i < 64; ++i) y[i] = std::sin(x[i] = -3 + 6 * float(i) / 63);
    for (int step = 0; step < 1500 && !ft_error(m); ++step) {
        ft_feed(m, in, x.data(), 64); ft_feed(m, target, y.data(), 64);
        float loss = ft_forward(m, true), worst = 0;
        ft_backward(m);
        ft_get_gradient(m, ft_find(m, "first.weight"), gradient.data(), gradient.size());
        ft_update(m, 0.01f);
        if (step % 500 != 499) continue;
        ft_run(m, x.data(), 64, found.data(), found.size());
        for (int i = 0; i < 64; ++i) worst = std::fmax(worst, std::fabs(found[i] - y[i]));
        std::printf("sine %d: mse %g, worst %g, gradient %g\n", step + 1, loss, worst, gradient[0]);
    }
    return std::puts(ft_error_text(m)), ft_destroy(m), 0;
}
