#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "optimizers/adam.h"

/* =============================================================================================
   [SECTION] optimizers/adafactor: Adafactor: the step of one parameter
   Shazeer and Stern 2018, as torch.optim.Adafactor with its defaults: the second moment of a matrix
   is the product of a column [rows, 1] and a row [1, columns], divided by the column's mean. A
   tensor of more dimensions is many matrices in its last two.
   ============================================================================================= */
#define FT__ADAFACTOR_LEAST FLT_EPSILON /* eps1: of second moments; eps2 = 1e-3: of the weights */

typedef struct ft__factors { /* of the parameter, and of the step */
    size_t count, matrices, rows, columns;
    float share;            /* that the new squares have in the second moment: t^-0.8 */
    float most;             /* of the relative step: min(rate, 1 / sqrt(t)) */
    float decay;            /* factor on the weights */
} ft__factors;

static ft__factors ft__factors_of(const ft__update *u)
{
    const ft_shape *shape = &u->node->shape;
    double t = (double)u->optimizer->updates;
    ft__factors f;
    f.count = ft__shape_count(shape);
    f.columns = (size_t)shape->size[shape->rank - 1];
    f.rows = shape->rank > 1 ? (size_t)shape->size[shape->rank - 2] : 1;
    f.matrices = f.count / (f.rows * f.columns);
    f.share = (float)ft__any_power(t, -0.8);
    f.most = u->learning_rate;
    if (sqrt(t) * (double)f.most > 1) f.most = (float)(1 / sqrt(t));
    f.decay = 1 - u->learning_rate * u->weight_decay;
    return f;
}

/* The mean square of numbers. */
static double ft__mean_square(const float *x, size_t count)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < count; ++i) sum += (double)x[i] * (double)x[i];
    return sum / (double)count;
}

/* Moves the moments of one matrix; returns the mean of its rows'. */
static float ft__factor_matrix(const ft__factors *f, const float *g, float *of_row,
                               float *of_column)
{
    double sum = 0;
    size_t r, c;
    for (c = 0; c < f->columns; ++c) of_column[c] *= 1 - f->share;
    for (r = 0; r < f->rows; ++r, g += f->columns) {
        float mean = (float)ft__mean_square(g, f->columns);
        of_row[r] += f->share * (mean - of_row[r]);
        sum += (double)of_row[r];
        for (c = 0; c < f->columns; ++c)
            of_column[c] += f->share / (float)f->rows * g[c] * g[c];
    }
    sum /= (double)f->rows;
    return sum > (double)FT__ADAFACTOR_LEAST ? (float)sum : FT__ADAFACTOR_LEAST;
}

static float ft__root_of_variance(float variance)
{
    const float least = FT__ADAFACTOR_LEAST * FT__ADAFACTOR_LEAST;
    return sqrtf(variance > least ? variance : least);
}

/* Turns the gradient into the update of unit size. */
static void ft__factor(const ft__update *u, const ft__factors *f)
{
    float *g = u->node->gradient, *of_row = u->node->moment1, *of_column = u->node->moment2;
    size_t k, r, c;
    if (!of_row) {
        for (c = 0; c < f->count; ++c) {
            of_column[c] += f->share * (g[c] * g[c] - of_column[c]);
            g[c] /= ft__root_of_variance(of_column[c]);
        }
        return;
    }
    for (k = 0; k < f->matrices; ++k, of_row += f->rows, of_column += f->columns) {
        float mean = ft__factor_matrix(f, g, of_row, of_column);
        for (r = 0; r < f->rows; ++r, g += f->columns)
            for (c = 0; c < f->columns; ++c)
                g[c] /= ft__root_of_variance(of_row[r] * of_column[c] / mean);
    }
}

static void ft__update_adafactor(const ft__update *u)
{
    ft__factors f = ft__factors_of(u);
    float *p = u->node->value, *g = u->node->gradient;
    double size = sqrt(ft__mean_square(p, f.count)), length;
    float step;
    size_t i;
    for (i = 0; i < f.count; ++i) g[i] *= u->gradient_scale;
    ft__factor(u, &f);
    length = sqrt(ft__mean_square(g, f.count));
    step = (float)((size > 1e-3 ? size : 1e-3) * (double)f.most / (length > 1 ? length : 1));
    for (i = 0; i < f.count; ++i) {
        p[i] = p[i] * f.decay - step * g[i];
        g[i] = 0;
    }
}
