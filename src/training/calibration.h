#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/outcomes.h"
#include "training/evaluate.h"

/* =============================================================================================
   [SECTION] training/calibration: The temperature of the probabilities
   ============================================================================================= */
/* The derivative of the mean -log(the label's probability) by b = 1 / T: the mean over samples of
   (sum over k of p_k z_k) - z_label, z the logits and p their probabilities at b. It only rises. */
static double ft__loss_slope(const ft__outcomes *of, double b, double *p)
{
    double sum = 0;
    int i, k;
    for (i = 0; i < of->samples; ++i) {
        const double *z = of->values + (size_t)i * (size_t)of->columns;
        ft__softmax_row(z, of->columns, b, p);
        for (k = 0; k < of->columns; ++k) sum += p[k] * (z[k] - z[of->labels[i]]);
    }
    return sum / of->samples;
}

/* Where it is 0, by halving an interval of b; 0: not from 0.01 to 100. p [classes] is room. */
static double ft__best_softening(const ft__outcomes *of, double *p)
{
    double low = 0.01, high = 100;
    int i;
    if (ft__loss_slope(of, low, p) >= 0 || ft__loss_slope(of, high, p) <= 0) return 0;
    for (i = 0; i < 60; ++i) {
        double middle = sqrt(low * high);
        if (ft__loss_slope(of, middle, p) < 0) low = middle;
        else high = middle;
    }
    return sqrt(low * high);
}

/* Loss and calibration error of the logits at this temperature; `soft`: room for as many. */
static void ft__measure_at(ft__context *c, const ft__outcomes *logits, ft__outcomes *soft,
                           double temperature, double *loss, double *error)
{
    ft__measuring g;
    ft__measured once;
    int i;
    for (i = 0; i < logits->samples; ++i) {
        size_t at = (size_t)i * (size_t)logits->columns;
        ft__softmax_row(logits->values + at, logits->columns, 1 / temperature, soft->values + at);
    }
    if (ft__measuring_start(c, &g, soft)) {
        ft__measure_once(&g, &once);
        *loss = once.value[FT_METRIC_LOG_LOSS];
        *error = once.value[FT_METRIC_CALIBRATION_ERROR];
    }
    ft__measuring_free(c, &g);
}

/* Fits the temperature to these logits. */
static void ft__fit_temperature(ft_model *m, const ft__outcomes *logits, ft_calibration *to)
{
    ft__context *c = &m->context;
    size_t numbers = (size_t)logits->samples * (size_t)logits->columns;
    ft__outcomes soft = *logits;
    double *row = (double *)ft__allocate(c, (size_t)logits->columns, sizeof *row), best = 0;
    soft.values = (double *)ft__allocate(c, numbers, sizeof *soft.values);
    if (ft__ok(c)) best = ft__best_softening(logits, row);
    if (ft__ok(c)) {
        to->fitted = best > 0;
        m->temperature = best > 0 ? (float)(1 / best) : 0;
        to->temperature = (double)ft_temperature(m);
        to->samples = logits->samples;
        ft__measure_at(c, logits, &soft, 1, &to->loss_before, &to->error_before);
        ft__measure_at(c, logits, &soft, to->temperature, &to->loss_after, &to->error_after);
        if (!to->fitted)
            ft__log(c, "no temperature from 0.01 to 100 fits %d samples best (are all predictions"
                    " right?): it is 1", logits->samples);
    }
    ft__release(c, soft.values);
    ft__release(c, row);
}

/* Adds the outputs of the batch that was just run. */
static void ft__collect_batch(ft__pass *pass, int count, ft__outcomes *of)
{
    ft_model *m = pass->m;
    const ft__node *output = ft__get_node(m, m->output);
    ft__read_loss(m, pass->plan); /* an error if it is not finite */
    ft__to_host(&m->context, pass->plan->values[m->output.id - 1],
                ft__node_count_at(output, ft__extent_of(m, count)) * sizeof(float));
    ft__outcomes_add(m, pass->plan, count, of);
}

/* Runs these samples, and adds their logits. */
static void ft__collect_logits(ft__pass *pass, int count, ft__outcomes *of)
{
    const ft__batch *batch;
    ft__loader_start(pass->loader, pass->order, NULL, count);
    while ((batch = ft__pass_next(pass, 0)) != NULL) ft__collect_batch(pass, batch->count, of);
}

static ft_status ft__calibrate_check(ft_model *m, const ft_data *data,
                                     const ft_calibrate_options *o)
{
    ft__context *c = &m->context;
    if (ft__regression_columns(m) > 0 || !ft__has_outcomes(m)
        || ft__is(ft__get_node(m, m->output), FT__PROBABILITIES))
        return ft__fail(c, FT_INVALID, "ft_calibrate: the output must be the logits of one class"
                        " for each sample");
    if (ft__classes_apart(m))
        return ft__fail(c, FT_UNSUPPORTED, "ft_calibrate: the loss learns each class on its own; a"
                        " temperature is fitted to probabilities that add up to 1");
    if (!(o->hold_back >= 0 && o->hold_back < 1) || o->batch_size < 0)
        return ft__fail(c, FT_INVALID, "ft_calibrate: hold_back is %g and batch_size %d; hold_back"
                        " must be at least 0 and below 1, batch_size not negative",
                        (double)o->hold_back, o->batch_size);
    return ft__data_check_network(m, data, "ft_calibrate");
}

static ft_calibration ft__calibrate(ft_model *m, ft_data *data, ft_calibrate_options o)
{
    ft__context *c = m ? &m->context : NULL;
    int count;
    ft_calibration result;
    ft__outcomes logits;
    ft__pass pass;
    memset(&result, 0, sizeof result);
    if (!ft__usable(m) || !ft__given(c, data, "ft_calibrate: the data")
        || ft__ready(m, true) != FT_OK || ft__check_classes(m, data) != FT_OK
        || ft__calibrate_check(m, data, &o) != FT_OK) return result;
    count = ft_data_count(data);
    memset(&logits, 0, sizeof logits);
    pass = ft__pass_begin(m, data, o.batch_size, 2 * ft__outcomes_bytes(m, count), false, false);
    if (pass.loader && o.hold_back > 0)
        count = ft_data_held_back(data, o.hold_back, pass.order, count);
    ft__outcomes_start(m, &logits, count);
    if (pass.loader && ft__ok(c)) ft__collect_logits(&pass, count, &logits);
    ft__pass_end(&pass);
    if (ft__ok(c) && logits.samples == 0)
        ft__fail(c, FT_INVALID, "ft_calibrate: there is no sample to fit a temperature to");
    if (ft__ok(c)) ft__fit_temperature(m, &logits, &result);
    ft__outcomes_free(c, &logits);
    return result;
}
