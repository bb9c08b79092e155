#pragma once
#include "interface/operators.h"
#include "platform/families.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/losses.h"

/* =============================================================================================
   [SECTION] operators/more_losses: More losses
   Those of the family ARITHMETIC: means over all elements of x and targets, and means over labels,
   each by one function of an element or a row. Formulas and slopes are PyTorch's, focal's are those
   of Lin et al. 2017. The weights of samples and classes count as in operators/losses.
   ============================================================================================= */
static const ft__field ft__smooth_l1_fields[] = {FT__FLOAT(ft_loss_options, beta),
                                                 FT__NO_MORE_FIELDS};
static const ft__field ft__huber_fields[] = {FT__FLOAT(ft_loss_options, delta),
                                             FT__NO_MORE_FIELDS};
static const ft__field ft__focal_fields[] = {
    FT__FLOAT(ft_loss_options, gamma), FT__FLOAT(ft_loss_options, alpha), FT__NO_MORE_FIELDS};
static const ft__field ft__hinge_fields[] = {FT__FLOAT(ft_loss_options, margin),
                                             FT__NO_MORE_FIELDS};

/* An option, or its default if it is 0. */
static float ft__or_default(float value, float otherwise) { return value != 0 ? value : otherwise; }

/* ---- Means over elements: y = the mean of f(x, t) ---- */

/* One element: its loss, and d loss / d x. */
typedef float (*ft__element_loss)(const ft_loss_options *o, float x, float t, float *slope);

static void ft__elements_forward(const ft__call *call, ft__element_loss loss)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    double sum = 0;
    float slope;
    for (n = 0; n < samples; ++n, x += each, t += each) {
        double weight = (double)ft__sample_weight(call, n);
        for (i = 0; i < each; ++i)
            sum += weight * (double)loss(&call->node->options.loss, x[i], t[i], &slope);
    }
    call->output.value[0] = (float)(sum / ft__pair_count(call));
}

/* opposite: f is of x - t, so that t gets the negative of x's gradient. */
static void ft__elements_backward(const ft__call *call, ft__element_loss loss, bool opposite)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t samples = ft__samples_of(call), each = ft__count(&call->input[0]) / samples, n, i;
    float *dx = call->input[0].gradient, *dt = opposite ? call->input[1].gradient : NULL;
    float all = call->output.gradient[0] / (float)ft__pair_count(call);
    for (n = 0; n < samples; ++n) {
        float scale = all * ft__sample_weight(call, n), slope;
        for (i = n * each; i < (n + 1) * each; ++i) {
            loss(&call->node->options.loss, x[i], t[i], &slope);
            if (dx) dx[i] += scale * slope;
            if (dt) dt[i] -= scale * slope;
        }
    }
}

#define FT__ELEMENT_LOSS(name, flag, fields)                                                      \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__elements_forward(call, ft__##name##_of);                                              \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__elements_backward(call, ft__##name##_of, (flag) == FT__REGRESSION);                   \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 2, 2, FT__READS_X | FT__WEIGHS | FT__ANY_LAYOUT | (flag),                \
        ft__pair_loss_shape, ft__##name##_forward, FT__BACKWARD(ft__##name##_backward), NULL,     \
        fields, NULL};

/* |x - t|; the slope at 0 is 0 */
static float ft__l1_of(const ft_loss_options *o, float x, float t, float *slope)
{
    float d = x - t;
    (void)o;
    *slope = d > 0 ? 1.0f : d < 0 ? -1.0f : d;
    return ft__absolute(d);
}

/* d = x - t: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2 (Girshick 2015) */
static float ft__smooth_l1_of(const ft_loss_options *o, float x, float t, float *slope)
{
    float d = x - t, beta = ft__or_default(o->beta, 1), size = ft__absolute(d);
    *slope = size < beta ? d / beta : d < 0 ? -1.0f : 1.0f;
    return size < beta ? 0.5f * d * d / beta : size - 0.5f * beta;
}

/* d = x - t: d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2) (Huber 1964) */
static float ft__huber_of(const ft_loss_options *o, float x, float t, float *slope)
{
    float d = x - t, delta = ft__or_default(o->delta, 1), size = ft__absolute(d);
    *slope = size <= delta ? d : d < 0 ? -delta : delta;
    return size <= delta ? 0.5f * d * d : delta * (size - 0.5f * delta);
}

/* torchvision.ops.sigmoid_focal_loss: a (1 - q)^gamma c, with the binary cross-entropy c, q =
   p t + (1 - p)(1 - t), p = sigmoid(x), and a = alpha t + (1 - alpha)(1 - t), or 1 if alpha is
   negative. dc/dx = p - t, dq/dx = (2 t - 1) p (1 - p). */
static float ft__sigmoid_focal_of(const ft_loss_options *o, float x, float t, float *slope)
{
    float gamma = ft__or_default(o->gamma, 2), alpha = ft__or_default(o->alpha, 0.25f);
    float p = ft__sigmoid(x), other = ft__sigmoid(-x), wrong = p * (1 - t) + other * t, power;
    float entropy = t * ft__softplus(-x) + (1 - t) * ft__softplus(x);
    float a = alpha < 0 ? 1.0f : alpha * t + (1 - alpha) * (1 - t);
    power = wrong > 0 ? ft__exp(gamma * ft__ln(wrong)) : 0;
    *slope = a * power * (p - t);
    if (wrong > 0)
        *slope -= a * gamma * (power / wrong) * (2 * t - 1) * p * other * entropy;
    return a * power * entropy;
}

/* In files: `l1` | x, target of the same shape | */
FT__ELEMENT_LOSS(l1, FT__REGRESSION, ft__no_fields)
/* In files: `smooth_l1` | x, target of the same shape | `beta` 1 */
FT__ELEMENT_LOSS(smooth_l1, FT__REGRESSION, ft__smooth_l1_fields)
/* In files: `huber` | x, target of the same shape | `delta` 1 */
FT__ELEMENT_LOSS(huber, FT__REGRESSION, ft__huber_fields)
FT__ELEMENT_LOSS(sigmoid_focal, FT__BY_SIGMOID, ft__focal_fields)

/* ---- Means over labels: y = the mean of f(a row of logits, its label) ---- */

/* One row of logits: its loss and, unless dx is NULL, scale times its gradient, added to dx. */
typedef float (*ft__loss_of_label)(const ft__call *call, const float *x, int label, size_t classes,
                                float scale, float *dx);

static void ft__label_losses_forward(const ft__call *call, ft__loss_of_label loss)
{
    ft__loss_job job = ft__loss_rows(call);
    const int32_t *labels = ft__integers(&call->input[1]);
    double sum = 0;
    size_t n;
    for (n = 0; n < job.rows; ++n) {
        float weight = ft__sample_weight(call, n / job.steps)
            * ft__class_weight(call, labels[n], job.classes);
        if (ft__is_class(labels[n], job.classes))
            sum += (double)weight * (double)loss(call, call->input[0].value + n * job.classes,
                                                 labels[n], job.classes, 0, NULL);
        else if (!ft__is_ignored(labels[n])) sum += (double)ft__from_bits(0x7fc00000u);
    }
    call->output.value[0] = (float)(sum / (double)ft__counted_labels(call, job.classes));
}

static void ft__label_losses_backward(const ft__call *call, ft__loss_of_label loss)
{
    ft__loss_job job = ft__loss_rows(call);
    const int32_t *labels = ft__integers(&call->input[1]);
    float all = call->output.gradient[0] / ft__counted_labels(call, job.classes);
    size_t n;
    for (n = 0; call->input[0].gradient && n < job.rows; ++n) {
        float weight = ft__sample_weight(call, n / job.steps)
            * ft__class_weight(call, labels[n], job.classes);
        if (ft__is_class(labels[n], job.classes))
            loss(call, call->input[0].value + n * job.classes, labels[n], job.classes,
                 all * weight, call->input[0].gradient + n * job.classes);
    }
}

#define FT__LABEL_LOSS(name, fields)                                                              \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__label_losses_forward(call, ft__##name##_of);                                          \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__label_losses_backward(call, ft__##name##_of);                                         \
    }                                                                                             \
    static const ft__row ft__row_##name = {                                                       \
        FT__NAMED(name), 2, 2, FT__READS_X | FT__WEIGHS | FT__CLASSES, ft__cross_entropy_shape,   \
        ft__##name##_forward, FT__BACKWARD(ft__##name##_backward), NULL, fields, NULL};

/* -(1 - p)^gamma log(p), p = softmax(x)[label]. By log(p) the slope is
   -(1 - p)^gamma + gamma (1 - p)^(gamma - 1) p log(p); by x_i that of log(p) is
   [i = label] - softmax(x)_i. 1 - p is the sum of the other classes' shares, which is exact where p
   is almost 1. */
static float ft__focal_of(const ft__call *call, const float *x, int label, size_t classes,
                          float scale, float *dx)
{
    float gamma = ft__or_default(call->node->options.loss.gamma, 2), largest = x[0], p, log_p;
    float power, rest, slope;
    double sum = 0, others = 0;
    size_t i;
    for (i = 1; i < classes; ++i) largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < classes; ++i) {
        double e = (double)ft__exp(x[i] - largest);
        sum += e;
        if (i != (size_t)label) others += e;
    }
    rest = (float)(others / sum);
    log_p = x[label] - largest - ft__ln((float)sum);
    if (rest < 0.5f) log_p = ft__log1p(-rest);
    p = ft__exp(log_p);
    power = rest > 0 ? ft__exp(gamma * ft__ln(rest)) : 0;
    slope = -power + (rest > 0 ? gamma * (power / rest) * p * log_p : 0);
    for (i = 0; dx && i < classes; ++i)
        dx[i] -= scale * slope * (float)((double)ft__exp(x[i] - largest) / sum);
    if (dx) dx[label] += scale * slope;
    return -power * log_p;
}

/* The sum over the other classes of max(0, margin - x_label + x_i), by the number of classes:
   PyTorch's multi_margin_loss (Crammer and Singer 2001) */
static float ft__hinge_of(const ft__call *call, const float *x, int label, size_t classes,
                          float scale, float *dx)
{
    float margin = ft__or_default(call->node->options.loss.margin, 1), step;
    double sum = 0;
    size_t i;
    step = scale / (float)classes;
    for (i = 0; i < classes; ++i) {
        float over = margin - x[label] + x[i];
        if (i == (size_t)label || over <= 0) continue; /* NaN counts */
        sum += (double)over;
        if (dx) dx[i] += step;
        if (dx) dx[label] -= step;
    }
    return (float)(sum / (double)classes);
}

/* In files: `focal`, `sigmoid_focal` | logits, and labels (I32) or, of sigmoid_focal, targets of
   the same shape | `gamma` 2, `alpha` 0.25 (negative: none; sigmoid_focal only) */
FT__LABEL_LOSS(focal, ft__focal_fields)
/* In files: `hinge` | logits, labels (I32) | `margin` 1 */
FT__LABEL_LOSS(hinge, ft__hinge_fields)
