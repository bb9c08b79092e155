/* cc -std=c99 -O2 -I. examples/what_to_adjust.c -o what_to_adjust -lm -pthread
   what_to_adjust.c - the same small network under several learning rates, activations and losses. A rate that
   is too small does not learn, and one that is too large diverges. Points of three spiral arms are
   classified; the table is also drawn, as accuracy after each epoch: what_to_adjust [FILE.svg].
   What it prints is in docs/examples.md. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { ARMS = 3, POINTS = 300, EPOCHS = 60, HIDDEN = 32, ROWS = 13, PANEL = 260 };

typedef struct setting {
    float rate;
    const char *activation, *loss;
} setting;

/* One thing is changed at a time. */
static const setting settings[ROWS] = {
    {1e-5f, "relu", "cross_entropy"}, {1e-3f, "relu", "cross_entropy"}, {0.03f, "relu", "cross_entropy"},
    {0.3f, "relu", "cross_entropy"}, {30.0f, "relu", "cross_entropy"},
    {0.03f, "sigmoid", "cross_entropy"}, {0.03f, "tanh", "cross_entropy"}, {0.03f, "relu", "cross_entropy"},
    {0.03f, "gelu", "cross_entropy"}, {0.03f, "silu", "cross_entropy"},
    {0.03f, "relu", "cross_entropy"}, {0.03f, "relu", "focal"}, {0.03f, "relu", "mse"}};
static const int first_of[4] = {0, 5, 10, ROWS}; /* of each group */
static const char *const groups[3] = {"learning rate", "activation", "loss"};

typedef struct outcome {
    double curve[EPOCHS];   /* accuracy on the training points */
    int epochs, correct;    /* that ran; of the test points */
} outcome;

/* Points on three arms, from the centre outwards, with a little noise; `odd` tells the sets apart. */
static void make_points(int odd, float points[POINTS][2], int labels[POINTS])
{
    unsigned state = 17u + (unsigned)odd;
    int i;
    for (i = 0; i < POINTS; ++i) {
        double along = ((double)(i / ARMS) + 0.5 * odd) / (POINTS / ARMS), angle;
        state = state * 1664525u + 1013904223u;
        labels[i] = i % ARMS;
        angle = 4 * along + labels[i] * 2.0943951 + 0.3 * ((double)(state >> 16) / 65536 - 0.5);
        points[i][0] = (float)(2 * along * cos(angle));
        points[i][1] = (float)(2 * along * sin(angle));
    }
}

static ft_model *make_network(const setting *s)
{
    /* One thread and plain instructions: the same numbers on every machine. */
    ft_model *m = ft_create((ft_desc){.seed = 3, .threads = 1, .simd = "none"});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {2}}), labels;
    x = ft_linear(m, "first", x, HIDDEN, (ft_linear_options){0});
    x = ft_activation(m, s->activation, "first.bend", x, (ft_activation_options){0});
    x = ft_linear(m, "second", x, HIDDEN, (ft_linear_options){0});
    x = ft_activation(m, s->activation, "second.bend", x, (ft_activation_options){0});
    x = ft_linear(m, "head", x, ARMS, (ft_linear_options){0});
    labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    if (strcmp(s->loss, "cross_entropy") != 0) ft_set_loss_kind(m, s->loss, (ft_loss_options){0});
    return m;
}

static bool note_epoch(void *user, const ft_progress *p)
{
    outcome *o = (outcome *)user;
    if (p->epoch_done) o->curve[o->epochs++] = p->accuracy;
    return true;
}

/* Trains with one setting; returns false if something but the numbers went wrong. */
static bool try_setting(const setting *s, outcome *o)
{
    float points[2][POINTS][2];
    int labels[2][POINTS];
    ft_model *m = make_network(s);
    ft_fit_options fit = {.epochs = EPOCHS, .batch_size = 30, .progress = note_epoch};
    bool works;
    fit.optimizer.optimizer = FT_SGD;
    fit.optimizer.momentum = 0.9f;
    fit.optimizer.learning_rate = s->rate;
    fit.progress_user = o;
    make_points(0, points[0], labels[0]);
    make_points(1, points[1], labels[1]);
    o->epochs = 0;
    o->correct = -1;
    ft_fit(m, ft_arrays(m, POINTS, points[0][0], labels[0], (ft_array_options){0}), fit);
    works = !ft_error(m) || ft_error(m) == FT_NOT_FINITE;
    if (!works) puts(ft_error_text(m));
    if (!ft_error(m))
        o->correct = ft_evaluate(m, ft_arrays(m, POINTS, points[1][0], labels[1], (ft_array_options){0}),
                                 (ft_evaluate_options){0}).correct;
    ft_destroy(m);
    return works;
}

static const char *name_of(int group, const setting *s, char text[16])
{
    snprintf(text, 16, "%g", (double)s->rate);
    return group == 0 ? text : group == 1 ? s->activation : s->loss;
}

static void draw(FILE *svg, const outcome *outcomes)
{
    static const char *const colours[5] = {"#888", "#1b6ac9", "#2a9d4a", "#c9731b", "#c02942"};
    char text[16];
    int g, r, e;
    fprintf(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d 300\" font-family=\"sans-serif\""
            " font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", 3 * PANEL + 20);
    for (g = 0; g < 3; ++g) {
        int left = 20 + g * PANEL;
        fprintf(svg, "<text x=\"%d\" y=\"16\">%s: accuracy by epoch</text>\n<path d=\"M%d 25v160h220\" fill=\"none\""
                " stroke=\"#000\"/>\n", left, groups[g], left);
        for (r = first_of[g]; r < first_of[g + 1]; ++r) {
            const char *colour = colours[r - first_of[g]];
            fprintf(svg, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
            for (e = 0; e < outcomes[r].epochs; ++e)
                fprintf(svg, "%.1f,%.1f ", left + 220.0 * e / (EPOCHS - 1), 185 - 160 * outcomes[r].curve[e]);
            fprintf(svg, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\">%s%s</text>\n", left, 202 + 16 * (r - first_of[g]),
                    colour, name_of(g, &settings[r], text), outcomes[r].correct < 0 ? " (diverges)" : "");
        }
    }
    fprintf(svg, "</svg>\n");
}

int main(int count, char **words)
{
    static outcome outcomes[ROWS];
    const char *path = count > 1 ? words[1] : "what_to_adjust.svg";
    char text[16];
    FILE *svg;
    int g, r;
    for (g = 0; g < 3; ++g) {
        printf("%-14s right of %d test points after %d epochs\n", groups[g], POINTS, EPOCHS);
        for (r = first_of[g]; r < first_of[g + 1]; ++r) {
            if (!try_setting(&settings[r], &outcomes[r])) return 1;
            if (outcomes[r].correct < 0) printf("  %-14s diverges: the loss is not a number\n", name_of(g, &settings[r], text));
            else printf("  %-14s %d\n", name_of(g, &settings[r], text), outcomes[r].correct);
        }
    }
    if (!(svg = fopen(path, "w"))) return perror(path), 1;
    draw(svg, outcomes);
    return fclose(svg) != 0;
}
