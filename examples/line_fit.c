/* cc -std=c99 -O2 -I. examples/line_fit.c -o line_fit -lm -pthread
   line_fit.c - what a gradient is. A line y = w x + b is fitted to eight points, and the gradient of the
   mean squared error comes from three places: a formula that we derive by hand, differences of the error
   when w and b change a little, and the library. All agree; then gradient descent follows it downhill.
   What it prints is in docs/examples.md. */
#include <stdio.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { POINTS = 8, STEPS = 100 };
static const float x[POINTS] = {-2.0f, -1.5f, -1.0f, -0.5f, 0.5f, 1.0f, 1.5f, 2.0f};
static const float y[POINTS] = {-4.1f, -2.7f, -2.2f, -0.8f, 1.93f, 2.4f, 4.2f, 4.8f};
static const float rate = 0.05f;

typedef struct line { double w, b; } line;

/* The mean of (w x + b - y)^2. */
static double error_of(line l)
{
    double sum = 0;
    int i;
    for (i = 0; i < POINTS; ++i) {
        double off = l.w * (double)x[i] + l.b - (double)y[i];
        sum += off * off;
    }
    return sum / POINTS;
}

/* By hand. Of off^2 the slope by off is 2 off, and off changes by x if w changes by 1, by 1 if b does. */
static line gradient_by_hand(line l)
{
    line g = {0, 0};
    int i;
    for (i = 0; i < POINTS; ++i) {
        double off = l.w * (double)x[i] + l.b - (double)y[i];
        g.w += 2 * off * (double)x[i] / POINTS;
        g.b += 2 * off / POINTS;
    }
    return g;
}

/* By differences: how much larger is the error a little to the right than a little to the left? It needs no
   derivation, but two errors for each number: a network has millions of numbers. */
static line gradient_by_differences(line l)
{
    const double little = 1e-4;
    line right_w = {l.w + little, l.b}, left_w = {l.w - little, l.b};
    line right_b = {l.w, l.b + little}, left_b = {l.w, l.b - little};
    line g;
    g.w = (error_of(right_w) - error_of(left_w)) / (2 * little);
    g.b = (error_of(right_b) - error_of(left_b)) / (2 * little);
    return g;
}

/* By the library: each operator knows how to pass a gradient from its output on to its inputs, so one pass
   from the error back to w and b is enough, however many there are (backpropagation). */
static line gradient_by_library(ft_model *m, line l, double *error)
{
    float w = (float)l.w, b = (float)l.b, slope_w = 0, slope_b = 0;
    line g;
    ft_set(m, ft_find(m, "line.weight"), &w, 1);
    ft_set(m, ft_find(m, "line.bias"), &b, 1);
    ft_feed(m, ft_find(m, "input"), x, POINTS);
    ft_feed(m, ft_find(m, "target"), y, POINTS);
    *error = (double)ft_forward(m, true);
    ft_backward(m);
    ft_get_gradient(m, ft_find(m, "line.weight"), &slope_w, 1);
    ft_get_gradient(m, ft_find(m, "line.bias"), &slope_b, 1);
    ft_update(m, 0); /* the next gradient begins at zero */
    g.w = (double)slope_w;
    g.b = (double)slope_b;
    return g;
}

static ft_model *make_line(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1, .threads = 1});
    ft_node in = ft_input(m, "input", (ft_input_options){.size = {1}});
    ft_node out = ft_linear(m, "line", in, 1, (ft_linear_options){0}); /* line.weight x + line.bias */
    ft_set_output(m, out);
    ft_set_loss(m, ft_mse(m, "error", out, ft_input(m, "target", (ft_input_options){.size = {1}})));
    ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_SGD});
    return m;
}

int main(void)
{
    ft_model *m = make_line();
    line l = {0.3, 0.21}, hand, differences, library;
    double error;
    int step;
    printf("step      w      b    error | by hand dw, db | differences    | library\n");
    for (step = 0; step <= STEPS; ++step) {
        hand = gradient_by_hand(l);
        differences = gradient_by_differences(l);
        library = gradient_by_library(m, l, &error);
        if (step < 3 || step == 5 || step == 10 || step == 20)
            printf("%4d %6.2f %6.2f %8.4f | %6.2f %6.2f  | %6.2f %6.2f  | %6.2f %6.2f\n", step, l.w, l.b, error,
                   hand.w, hand.b, differences.w, differences.b, library.w, library.b);
        l.w -= (double)rate * hand.w; /* downhill */
        l.b -= (double)rate * hand.b;
    }
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    printf("after %d steps: y = %.2f x + %.2f, error %.4f\n", STEPS, l.w, l.b, error);
    ft_destroy(m);
    return 0;
}
