#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/losses: Losses
   Each is the mean over the batch, one number. Targets get no gradient, except mse's.
   ============================================================================================= */
static const ft__field ft__loss_fields[] = {
    FT__FLOAT(ft_loss_options, label_smoothing), FT__NOT_KEPT(ft_loss_options, smooth)
    FT__NOT_KEPT(ft_loss_options, temperature) FT__NOT_KEPT(ft_loss_options, positive_weight)
    FT__NOT_KEPT(ft_loss_options, lengths)
    FT__NO_MORE_FIELDS};

/* -1 at padded positions, and PyTorch's ignore_index, -100: such a label does not count. */
static bool ft__is_ignored(int label) { return label == -1 || label == -100; }

static void ft__one_number(ft_shape *output)
{
    memset(output, 0, sizeof *output);
    output->rank = 1;
    output->size[0] = 1;
}

static ft_status ft__cross_entropy_shape(ft__context *c, const ft__node *node,
                                         const ft__tensor *input, int input_count,
                                         ft_shape *output)
{
    char text[80], other[80];
    float smoothing = node->options.loss.label_smoothing;
    int rank = input[0].shape.rank, d;
    bool fits;
    (void)input_count;
    ft__one_number(output);
    if (!(smoothing >= 0 && smoothing <= 1))
        return ft__fail(c, FT_INVALID, "%s: label_smoothing is %g; it must be 0 to 1", node->name,
                        (double)smoothing);
    if (input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: the labels are %s, but must be I32", node->name,
                        ft__type_names[input[1].type]);
    fits = (rank == 2 || rank == 3) && input[1].shape.rank == rank - 1
        && input[0].shape.size[rank - 1] > 0;
    for (d = 0; fits && d < rank - 1; ++d)
        fits = input[0].shape.size[d] == input[1].shape.size[d];
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: expected logits [N, classes] and labels [N], or [N, L,"
                        " classes] and [N, L], not %s and %s", node->name,
                        ft__shape_text(&input[0].shape, text),
                        ft__shape_text(&input[1].shape, other));
    return ft__want_numbers(c, node, input, 1);
}

/* Probabilities are kept for backward, and each row's loss until all are summed. */
static void ft__cross_entropy_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->input[0]) * sizeof(float);
    costs->workspace = ft__count(&call->input[1]) * sizeof(double);
}

static bool ft__is_class(int label, size_t classes)
{
    return label >= 0 && (size_t)label < classes;
}

/* ---- Weights: a mean is then the sum of weight * loss by the sum of the weights
   (operators/common) ---- */

/* The weight of a label's class; a label that is no class makes the loss NaN anyway. */
static float ft__class_weight(const ft__call *call, int label, size_t classes)
{
    return call->class_weights && ft__is_class(label, classes) ? call->class_weights[label] : 1.0f;
}

/* The number of labels that count, or their weights' sum; a label that is no class makes the loss
   NaN, which ft_forward reports. */
static float ft__counted_labels(const ft__call *call, size_t classes)
{
    const int32_t *labels = ft__integers(&call->input[1]);
    size_t count = ft__count(&call->input[1]), n, counted = 0;
    size_t steps = count / (size_t)call->input[1].shape.size[0];
    double sum = 0;
    for (n = 0; n < count; ++n) {
        if (ft__is_ignored(labels[n])) continue;
        counted += 1;
        sum += (double)ft__sample_weight(call, n / steps)
            * (double)ft__class_weight(call, labels[n], classes);
    }
    if (!call->sample_weights && !call->class_weights) return (float)counted;
    return counted && sum == 0 ? 1.0f : (float)sum;
}

/* Some rows of a loss; a row's bits do not depend on the number of threads. */
typedef struct ft__loss_job {
    const ft__call *call;
    size_t rows, classes, part; /* part: rows per index of the parallel loop */
    size_t steps;           /* rows of a sample */
    float scale;            /* backward */
} ft__loss_job;

static ft__loss_job ft__loss_rows(const ft__call *call)
{
    ft__loss_job job;
    job.call = call;
    job.rows = ft__count(&call->input[1]);
    job.classes = ft__count(&call->input[0]) / job.rows;
    job.steps = job.rows / (size_t)call->input[1].shape.size[0];
    job.part = ft__lines_at_once(job.classes);
    job.scale = 0;
    return job;
}

static void ft__run_loss_rows(const ft__loss_job *job, ft__body body)
{
    ft__parallel(job->call->context, (int)((job->rows + job->part - 1) / job->part), body,
                 (void *)(uintptr_t)job);
}

static size_t ft__last_row(const ft__loss_job *job, int index)
{
    size_t end = ((size_t)index + 1) * job->part;
    return end < job->rows ? end : job->rows;
}

/* -sum over classes of q log(softmax(x)), q = 1 for the label; smoothed (Szegedy et al. 2016):
   q = (1 - s) for the label plus s / classes for every class. A class's weight is a factor of its
   term, as in PyTorch. */
static double ft__label_loss(const ft__loss_job *job, const float *logarithms, size_t n)
{
    const ft__call *call = job->call;
    double smoothing = (double)call->node->options.loss.label_smoothing, all = 0;
    int label = ft__integers(&call->input[1])[n];
    size_t i;
    for (i = 0; smoothing > 0 && i < job->classes; ++i)
        all -= (double)ft__class_weight(call, (int)i, job->classes) * (double)logarithms[i];
    if (!ft__is_class(label, job->classes))
        return ft__is_ignored(label) ? 0 : (double)ft__from_bits(0x7fc00000u);
    return (double)ft__sample_weight(call, n / job->steps)
        * ((1 - smoothing) * (double)ft__class_weight(call, label, job->classes)
           * -(double)logarithms[label] + smoothing * all / (double)job->classes);
}

/* The row of the same step of the sample before, of the first: of the last. */
static size_t ft__row_before(const ft__loss_job *job, size_t n)
{
    return n < job->steps ? n + job->rows - job->steps : n - job->steps;
}

/* The loss of row n, for its own label and, by other_share, for the row before's. Over a batch the
   weights of these labels add up to those of all labels as they are: the mean stays one. */
static double ft__row_loss(const ft__loss_job *job, const float *logarithms, size_t n)
{
    double own = ft__label_loss(job, logarithms, n), other = (double)job->call->other_share;
    if (!FT__HAS_TRAINING || other == 0) return own;
    return (1 - other) * own + other * ft__label_loss(job, logarithms, ft__row_before(job, n));
}

static void ft__cross_entropy_rows(void *context, int index)
{
    const ft__loss_job *job = (const ft__loss_job *)context;
    const ft__call *call = job->call;
    size_t classes = job->classes, n = (size_t)index * job->part, end = ft__last_row(job, index);
    double *loss = (double *)(void *)call->workspace;
    for (; n < end; ++n) {
        float *p = (float *)call->saved + n * classes;
        ft__softmax[call->context->simd](call->input[0].value + n * classes, p, classes, true);
        loss[n] = ft__row_loss(job, p, n);
        ft__exp_line[call->context->simd](p, classes);
    }
}

static void ft__cross_entropy_forward(const ft__call *call)
{
    ft__loss_job job = ft__loss_rows(call);
    const double *loss = (const double *)(const void *)call->workspace;
    double sum = 0;
    size_t n;
    ft__run_loss_rows(&job, ft__cross_entropy_rows);
    for (n = 0; n < job.rows; ++n) sum += loss[n];
    call->output.value[0] = (float)(sum / (double)ft__counted_labels(call, job.classes));
}

/* dx of one row with a smoothed label and weights of classes: its loss's gradient is
   (1 - s) w_label (p - label) + s / classes (p sum(w) - w). */
static void ft__smoothed_back(const ft__call *call, const float *p, int label, size_t classes,
                              float scale, float *dx)
{
    float smoothing = call->node->options.loss.label_smoothing, sum = 0;
    float of_label = (1 - smoothing) * call->class_weights[label];
    float of_all = smoothing / (float)classes;
    size_t i;
    for (i = 0; i < classes; ++i) sum += call->class_weights[i];
    for (i = 0; i < classes; ++i)
        dx[i] += scale * (p[i] * (of_label + of_all * sum) - of_all * call->class_weights[i]);
    dx[label] -= scale * of_label;
}

/* Adds `share` of the gradient for row n's label by the logits: p is their softmax. */
static void ft__label_slopes(const ft__loss_job *job, const float *p, size_t n, float share,
                             float *dx)
{
    const ft__call *call = job->call;
    float smoothing = call->node->options.loss.label_smoothing, scale;
    int label = ft__integers(&call->input[1])[n];
    size_t classes = job->classes;
    if (!ft__is_class(label, classes)) return;
    scale = job->scale * share * ft__sample_weight(call, n / job->steps);
    if (call->class_weights && smoothing > 0) {
        ft__smoothed_back(call, p, label, classes, scale, dx);
        return;
    }
    scale *= ft__class_weight(call, label, classes);
    ft__add_probabilities[call->context->simd](p, scale, smoothing / (float)classes, classes, dx);
    dx[label] -= scale * (1 - smoothing);
}

static void ft__cross_entropy_back_rows(void *context, int index)
{
    const ft__loss_job *job = (const ft__loss_job *)context;
    size_t n = (size_t)index * job->part, end = ft__last_row(job, index);
    float other = job->call->other_share;
    for (; n < end; ++n) {
        const float *p = (const float *)job->call->saved + n * job->classes;
        float *dx = job->call->input[0].gradient + n * job->classes;
        ft__label_slopes(job, p, n, 1 - other, dx);
        if (other != 0) ft__label_slopes(job, p, ft__row_before(job, n), other, dx);
    }
}

static void ft__cross_entropy_backward(const ft__call *call)
{
    ft__loss_job job = ft__loss_rows(call);
    job.scale = call->output.gradient[0] / ft__counted_labels(call, job.classes);
    if (call->input[0].gradient) ft__run_loss_rows(&job, ft__cross_entropy_back_rows);
}

static ft_status ft__pair_loss_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    char text[80], other[80];
    bool same = input[0].shape.rank == input[1].shape.rank;
    int d;
    ft__one_number(output);
    for (d = 0; same && d < input[0].shape.rank; ++d)
        same = input[0].shape.size[d] == input[1].shape.size[d];
    if (!same)
        return ft__fail(c, FT_SHAPE, "%s: target shape %s does not match %s", node->name,
                        ft__shape_text(&input[1].shape, other),
                        ft__shape_text(&input[0].shape, text));
    return ft__want_numbers(c, node, input, input_count);
}

static ft_status ft__soft_cross_entropy_shape(ft__context *c, const ft__node *node,
                                              const ft__tensor *input, int input_count,
                                              ft_shape *output)
{
    char text[80];
    if (input[0].shape.rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: expected logits [N, classes], not %s", node->name,
                        ft__shape_text(&input[0].shape, text));
    return ft__pair_loss_shape(c, node, input, input_count, output);
}

static void ft__soft_cross_entropy_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->input[0]) * sizeof(float);
}

/* -sum(t log(softmax(x))) / N; dx = (softmax(x) sum(t) - t) / N */
static void ft__soft_cross_entropy_forward(const ft__call *call)
{
    size_t classes = (size_t)call->input[0].shape.size[1], i;
    float *p = (float *)call->saved;
    const float *t = call->input[1].value;
    double sum = 0;
    int n, count = call->input[0].shape.size[0];
    for (n = 0; n < count; ++n, p += classes, t += classes) {
        double weight = (double)ft__sample_weight(call, (size_t)n);
        ft__softmax[call->context->simd](call->input[0].value + (size_t)n * classes, p, classes,
                                         true);
        for (i = 0; i < classes; ++i) {
            if (t[i] != 0) sum -= weight * ((double)t[i] * (double)p[i]);
            p[i] = ft__exp(p[i]);
        }
    }
    call->output.value[0] = (float)(sum / ft__sum_of_weights(call, (size_t)count));
}

static void ft__soft_cross_entropy_backward(const ft__call *call)
{
    size_t classes = (size_t)call->input[0].shape.size[1], i;
    const float *p = (const float *)call->saved, *t = call->input[1].value;
    float *dx = call->input[0].gradient, all;
    int n, count = call->input[0].shape.size[0];
    all = call->output.gradient[0] / (float)ft__sum_of_weights(call, (size_t)count);
    for (n = 0; dx && n < count; ++n, p += classes, t += classes, dx += classes) {
        float sum = 0, scale = all * ft__sample_weight(call, (size_t)n);
        for (i = 0; i < classes; ++i) sum += t[i];
        for (i = 0; i < classes; ++i) dx[i] += scale * (p[i] * sum - t[i]);
    }
}

/* ---- Means over all elements of x and targets; without a batch weights are refused before ---- */

static size_t ft__samples_of(const ft__call *call)
{
    return call->input[0].shape.rank ? (size_t)call->input[0].shape.size[0] : 1;
}

/* What the weighted sum is divided by. */
static double ft__pair_count(const ft__call *call)
{
    size_t samples = ft__samples_of(call);
    return (double)(ft__count(&call->input[0]) / samples) * ft__sum_of_weights(call, samples);
}

/* softplus(x) - t x = -(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))); dx = sigmoid(x) - t */
static void ft__binary_cross_entropy_forward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    double sum = 0;
    for (n = 0; n < samples; ++n, x += each, t += each) {
        double weight = (double)ft__sample_weight(call, n);
        for (i = 0; i < each; ++i) {
            float positive = x[i] > 0 ? x[i] : 0, size = x[i] < 0 ? -x[i] : x[i];
            sum += weight * ((double)(positive - t[i] * x[i])
                             + (double)ft__log1p(ft__exp(-size)));
        }
    }
    call->output.value[0] = (float)(sum / ft__pair_count(call));
}

static void ft__binary_cross_entropy_backward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    float *dx = call->input[0].gradient;
    float all = call->output.gradient[0] / (float)ft__pair_count(call);
    for (n = 0; dx && n < samples; ++n, x += each, t += each, dx += each) {
        float scale = all * ft__sample_weight(call, n);
        for (i = 0; i < each; ++i) dx[i] += scale * (ft__sigmoid(x[i]) - t[i]);
    }
}

/* mean((x - t)^2) */
static void ft__mse_forward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    double sum = 0;
    for (n = 0; n < samples; ++n, x += each, t += each) {
        double weight = (double)ft__sample_weight(call, n);
        for (i = 0; i < each; ++i) {
            double difference = (double)x[i] - (double)t[i];
            sum += weight * (difference * difference);
        }
    }
    call->output.value[0] = (float)(sum / ft__pair_count(call));
}

static void ft__mse_backward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    float *dx = call->input[0].gradient, *dt = call->input[1].gradient;
    float all = 2 * call->output.gradient[0] / (float)ft__pair_count(call);
    for (n = 0; n < samples; ++n) {
        float scale = all * ft__sample_weight(call, n);
        for (i = n * each; i < (n + 1) * each; ++i) {
            if (dx) dx[i] += scale * (x[i] - t[i]);
            if (dt) dt[i] += scale * (t[i] - x[i]);
        }
    }
}

/* In files: `cross_entropy` | logits, labels (I32) | `label_smoothing` 0 */
static const ft__row ft__row_cross_entropy = {
    FT__NAMED(cross_entropy), 2, 2, FT__READS_X | FT__WEIGHS | FT__CLASSES | FT__TWO_LABELS,
    ft__cross_entropy_shape, ft__cross_entropy_forward, FT__BACKWARD(ft__cross_entropy_backward),
    ft__cross_entropy_costs, ft__loss_fields, NULL};

/* In files: `soft_cross_entropy` | logits, targets [N, classes] | */
static const ft__row ft__row_soft_cross_entropy = {
    FT__NAMED(soft_cross_entropy), 2, 2, FT__READS_X | FT__WEIGHS,
    ft__soft_cross_entropy_shape, ft__soft_cross_entropy_forward,
    FT__BACKWARD(ft__soft_cross_entropy_backward), ft__soft_cross_entropy_costs, ft__no_fields,
    NULL};

/* In files: `binary_cross_entropy` | logits, targets of the same shape | */
static const ft__row ft__row_binary_cross_entropy = {
    FT__NAMED(binary_cross_entropy), 2, 2,
    FT__READS_X | FT__WEIGHS | FT__ANY_LAYOUT | FT__BY_SIGMOID, ft__pair_loss_shape,
    ft__binary_cross_entropy_forward, FT__BACKWARD(ft__binary_cross_entropy_backward), NULL,
    ft__no_fields, NULL};

/* In files: `mse` | x, target of the same shape | */
static const ft__row ft__row_mse = {
    FT__NAMED(mse), 2, 2, FT__READS_X | FT__WEIGHS | FT__REGRESSION | FT__ANY_LAYOUT,
    ft__pair_loss_shape, ft__mse_forward, FT__BACKWARD(ft__mse_backward), NULL, ft__no_fields,
    NULL};

ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node labels,
                         ft_loss_options options)
{
    return ft__add_pair(m, &ft__row_cross_entropy, name, logits, labels, &options, sizeof options);
}

ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, &ft__row_soft_cross_entropy, name, logits, targets, NULL, 0);
}

ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, &ft__row_binary_cross_entropy, name, logits, targets, NULL, 0);
}

ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target)
{
    return ft__add_pair(m, &ft__row_mse, name, x, target, NULL, 0);
}
