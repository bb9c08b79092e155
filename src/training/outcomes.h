#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/rotary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/losses.h"
#include "operators/rows.h"
#include "graph/layout.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "training/metrics.h"
#include "training/measures.h"

/* =============================================================================================
   [SECTION] training/outcomes: What a network predicted of each sample, for its metrics
   ============================================================================================= */
/* Has each sample one class, or numbers as targets? */
static bool ft__has_outcomes(const ft_model *m)
{
    if (ft__regression_columns(m) > 0) return true;
    return ft__classifies_samples(m) && ft__scored_rows(m, 1) == 1;
}

static size_t ft__outcomes_bytes(const ft_model *m, int samples)
{
    bool numbers = ft__regression_columns(m) > 0;
    size_t columns = numbers ? ft__regression_columns(m) : (size_t)ft__output_classes(m);
    size_t n = (size_t)samples, bytes = n * columns * sizeof(double);
    bytes += numbers ? bytes : n * sizeof(int);
    return bytes + 4 * FT__ALIGNMENT + ft__measuring_bytes(!numbers, samples, (int)columns);
}

static void ft__outcomes_free(ft__context *c, ft__outcomes *of)
{
    ft__release(c, of->labels);
    ft__release(c, of->targets);
    ft__release(c, of->values);
    memset(of, 0, sizeof *of);
}

/* Makes room for this many samples. */
static ft_status ft__outcomes_start(ft_model *m, ft__outcomes *of, int samples)
{
    ft__context *c = &m->context;
    size_t n = (size_t)samples, numbers = ft__regression_columns(m);
    memset(of, 0, sizeof *of);
    of->columns = numbers ? (int)numbers : ft__output_classes(m);
    of->values = (double *)ft__allocate(c, n * (size_t)of->columns, sizeof *of->values);
    if (numbers) of->targets = (double *)ft__allocate(c, n * numbers, sizeof *of->targets);
    else of->labels = (int *)ft__allocate(c, n, sizeof *of->labels);
    return c->status;
}

/* Makes a row of logits times `rate` probabilities; `to` may be the row. */
static void ft__softmax_row(const double *logits, int classes, double rate, double *to)
{
    double largest = logits[0], sum = 0;
    int k;
    for (k = 1; k < classes; ++k)
        if (logits[k] > largest) largest = logits[k];
    for (k = 0; k < classes; ++k) {
        double x = (logits[k] - largest) * rate;
        sum += to[k] = x > -700 ? ft__exp_double(x) : 0;
    }
    for (k = 0; k < classes; ++k) to[k] /= sum;
}

/* The same of logits that are each a class's own: 1 / (1 + e^-x). */
static void ft__sigmoid_row(const double *logits, int classes, double rate, double *to)
{
    double pair[2];
    int k;
    for (k = 0; k < classes; ++k) {
        pair[0] = 0;
        pair[1] = logits[k];
        ft__softmax_row(pair, 2, rate, pair);
        to[k] = pair[1];
    }
}

/* What was added becomes probabilities, if it is logits. */
static void ft__outcomes_soften(const ft_model *m, ft__outcomes *of)
{
    bool apart = ft__classes_apart(m);
    int i;
    if (!of->labels || ft__is(ft__get_node(m, m->output), FT__PROBABILITIES)) return;
    for (i = 0; i < of->samples; ++i) {
        double *row = of->values + (size_t)i * (size_t)of->columns;
        (apart ? ft__sigmoid_row : ft__softmax_row)(row, of->columns,
                                                    1 / (double)ft_temperature(m), row);
    }
}

/* Adds a batch that was just run, whose output was brought to the host, as it is. Samples without a
   label do not count. */
static void ft__outcomes_add(const ft_model *m, const ft__plan *plan, int batch, ft__outcomes *of)
{
    const ft__node *output = ft__get_node(m, m->output), *labels = ft__labels_of(m);
    const ft__node *targets = of->labels ? NULL : ft__targets_of(m);
    const float *values = plan->values[m->output.id - 1];
    size_t columns = (size_t)of->columns, k;
    int i;
    for (i = 0; i < batch; ++i, values += columns) {
        double *to = of->values + (size_t)of->samples * columns;
        if (targets) {
            const float *target = targets->value + (size_t)i * columns;
            double *want = of->targets + (size_t)of->samples * columns;
            for (k = 0; k < columns; ++k) {
                to[k] = (double)values[ft__place_in_sample(output, k)];
                want[k] = (double)target[ft__place_in_sample(targets, k)];
            }
        } else {
            int label = ((const int32_t *)(const void *)labels->value)[i];
            if (ft__is_ignored(label) || label >= of->columns) continue;
            of->labels[of->samples] = label;
            for (k = 0; k < columns; ++k) to[k] = (double)values[k];
        }
        of->samples += 1;
    }
}
