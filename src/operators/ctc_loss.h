#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/losses.h"
#include "operators/step_pool.h"

/* =============================================================================================
   [SECTION] operators/ctc_loss: Connectionist temporal classification
   Of the family ARITHMETIC. logits [N, T, classes], labels [N, S] and, if given, lengths [N], the
   real steps of each sample. A path has a class for each step; it stands for the labels that are
   left when runs of one class are taken once and then blanks are dropped. A sample's loss is
   -log(the sum of the probabilities of all paths that stand for its labels), by its number of
   labels. Graves et al. 2006.
   The path goes through states 0 to 2 S: blank, label, blank, label, .. blank. alpha[t][s] is the
   logarithm of the probability of all ways to be in s at step t, that step counted; beta[t][s], of
   all ways from there to the end, that step not counted. With y = softmax(x),
       loss = -log(sum of exp(alpha) over the last two states at the last step) / S
       dx[t][k] = (y[t][k] - sum over the states of class k of exp(alpha + beta + S loss)) / S
   ============================================================================================= */
static const ft__field ft__ctc_fields[] = {
    FT__INT(ft_loss_options, blank), FT__BOOL(ft_loss_options, zero_infinity),
    FT__NO_MORE_FIELDS};

static ft_status ft__ctc_loss_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *labels = &input[1].shape;
    char text[80], other[80];
    ft__one_number(output);
    if (x->rank != 3 || labels->rank != 2 || labels->size[0] != x->size[0]
        || input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: expected logits [N, T, classes] and labels I32 [N, S],"
                        " not %s and %s %s", node->name, ft__shape_text(x, text),
                        ft__type_names[input[1].type], ft__shape_text(labels, other));
    if (input_count > 2 && (input[2].type != FT_I32 || input[2].shape.rank != 1
                            || input[2].shape.size[0] != x->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths must be I32 [N], not %s", node->name,
                        ft__shape_text(&input[2].shape, text));
    if (node->options.loss.blank < 0 || node->options.loss.blank >= x->size[2])
        return ft__fail(c, FT_INVALID, "%s: blank is %d; it must be one of the %d classes",
                        node->name, node->options.loss.blank, x->size[2]);
    return ft__want_numbers(c, node, input, 1);
}

/* The sizes of a batch, and where its numbers are. */
typedef struct ft__ctc {
    const ft__call *call;
    size_t samples, steps, classes, most, states; /* most: labels of a sample; states: 2 most + 1 */
    double *alpha, *loss;   /* [samples][steps][states]; [samples]: S times the loss */
    float *y;               /* [samples][steps][classes]: logarithms of probabilities */
    double *beta;           /* [samples][2][states]: of two steps */
    int32_t *labels;        /* [samples][most], those that count */
    double scale;           /* of a sample's gradient */
} ft__ctc;

static ft__ctc ft__ctc_of(const ft__call *call)
{
    ft__ctc g;
    memset(&g, 0, sizeof g);
    g.call = call;
    g.samples = (size_t)call->input[0].shape.size[0];
    g.steps = (size_t)call->input[0].shape.size[1];
    g.classes = (size_t)call->input[0].shape.size[2];
    g.most = (size_t)call->input[1].shape.size[1];
    g.states = 2 * g.most + 1;
    if (!call->saved || !call->workspace) return g;
    g.alpha = (double *)call->saved;
    g.loss = g.alpha + g.samples * g.steps * g.states;
    g.y = (float *)(void *)(g.loss + g.samples);
    g.beta = (double *)(void *)call->workspace;
    g.labels = (int32_t *)(void *)(g.beta + 2 * g.samples * g.states);
    return g;
}

static void ft__ctc_loss_costs(const ft__call *call, ft__costs *costs)
{
    ft__ctc g = ft__ctc_of(call);
    costs->saved = g.samples * ((g.steps * g.states + 1) * sizeof(double)
                                + g.steps * g.classes * sizeof(float));
    costs->workspace = g.samples * (2 * g.states * sizeof(double) + g.most * sizeof(int32_t));
}

/* One sample. */
typedef struct ft__ctc_sample {
    size_t steps, states, classes; /* its own steps; 2 times its labels + 1 */
    const int32_t *labels;
    int blank;
    bool known;             /* all labels are classes, and none is the blank */
    float *y;
    double *alpha;          /* rows of `row` numbers */
    size_t row;
} ft__ctc_sample;

/* Sample n, whose labels that count are copied. */
static ft__ctc_sample ft__ctc_take(const ft__ctc *g, size_t n)
{
    const ft__call *call = g->call;
    const int32_t *from = ft__integers(&call->input[1]) + n * g->most;
    int32_t *to = g->labels + n * g->most;
    ft__ctc_sample a;
    size_t count = 0, i;
    a.steps = ft__steps_of(call->input_count > 2 ? &call->input[2] : NULL, n, g->steps);
    a.classes = g->classes;
    a.blank = call->node->options.loss.blank;
    a.known = true;
    for (i = 0; i < g->most; ++i) {
        if (ft__is_ignored(from[i])) continue;
        a.known = a.known && ft__is_class(from[i], g->classes) && from[i] != a.blank;
        to[count++] = from[i];
    }
    a.labels = to;
    a.states = 2 * count + 1;
    a.y = g->y + n * g->steps * g->classes;
    a.row = g->states;
    a.alpha = g->alpha + n * g->steps * g->states;
    return a;
}

static int ft__ctc_class(const ft__ctc_sample *a, size_t state)
{
    return state & 1 ? a->labels[state / 2] : a->blank;
}

/* Whether a path may go from state s - 2 to s: it need not pass a blank between two labels that
   differ. */
static bool ft__ctc_skips(const ft__ctc_sample *a, size_t s)
{
    return (s & 1) && s > 1 && s < a->states && a->labels[s / 2] != a->labels[s / 2 - 1];
}

static double ft__impossible(void) { return -HUGE_VAL; }

/* log(e^a + e^b): the larger, exact, and what the other adds, at most log(2), as a float. */
static double ft__log_sum(double a, double b)
{
    double larger = a < b ? b : a;
    if (a == ft__impossible()) return b;
    if (b == ft__impossible()) return a;
    return larger + (double)ft__log1p(ft__exp((float)(a < b ? a - b : b - a)));
}

/* Fills alpha, and returns -log of the probability of the labels. */
static double ft__ctc_alpha(const ft__ctc_sample *a)
{
    const float *y = a->y;
    double *to = a->alpha;
    size_t t, s;
    if (a->steps == 0) return a->states > 1 ? HUGE_VAL : 0;
    for (s = 0; s < a->states; ++s)
        to[s] = s < 2 ? (double)y[ft__ctc_class(a, s)] : ft__impossible();
    for (t = 1; t < a->steps; ++t) {
        const double *before = to;
        y += a->classes;
        to += a->row;
        for (s = 0; s < a->states; ++s) {
            double sum = before[s];
            if (s > 0) sum = ft__log_sum(sum, before[s - 1]);
            if (ft__ctc_skips(a, s)) sum = ft__log_sum(sum, before[s - 2]);
            to[s] = sum + (double)y[ft__ctc_class(a, s)];
        }
    }
    return -(a->states > 1 ? ft__log_sum(to[a->states - 1], to[a->states - 2]) : to[0]);
}

/* beta of the step before, from that of a step and its y. */
static void ft__ctc_beta(const ft__ctc_sample *a, const float *y, const double *beta, double *to)
{
    size_t s;
    for (s = 0; s < a->states; ++s) {
        double sum = beta[s] + (double)y[ft__ctc_class(a, s)];
        if (s + 1 < a->states)
            sum = ft__log_sum(sum, beta[s + 1] + (double)y[ft__ctc_class(a, s + 1)]);
        if (ft__ctc_skips(a, s + 2))
            sum = ft__log_sum(sum, beta[s + 2] + (double)y[ft__ctc_class(a, s + 2)]);
        to[s] = sum;
    }
}

/* What a sample's loss counts in the mean: its weight, by its number of labels. */
static double ft__ctc_share(const ft__ctc *g, const ft__ctc_sample *a, size_t n)
{
    return (double)ft__sample_weight(g->call, n) / (a->states > 1 ? (double)(a->states / 2) : 1);
}

static void ft__ctc_forward_sample(void *context, int index)
{
    const ft__ctc *g = (const ft__ctc *)context;
    size_t n = (size_t)index, t;
    ft__ctc_sample a = ft__ctc_take(g, n);
    const float *x = g->call->input[0].value + n * g->steps * g->classes;
    for (t = 0; t < a.steps; ++t)
        ft__softmax[g->call->context->simd](x + t * a.classes, a.y + t * a.classes, a.classes,
                                            true);
    g->loss[n] = a.known ? ft__ctc_alpha(&a) : (double)ft__from_bits(0x7fc00000u);
}

static void ft__ctc_loss_forward(const ft__call *call)
{
    ft__ctc g = ft__ctc_of(call);
    double sum = 0;
    size_t n;
    ft__parallel(call->context, (int)g.samples, ft__ctc_forward_sample, &g);
    for (n = 0; n < g.samples; ++n) {
        ft__ctc_sample a = ft__ctc_take(&g, n);
        if (call->node->options.loss.zero_infinity && g.loss[n] == HUGE_VAL) continue;
        sum += ft__ctc_share(&g, &a, n) * g.loss[n];
    }
    call->output.value[0] = (float)(sum / ft__sum_of_weights(call, g.samples));
}

static void ft__ctc_backward_sample(void *context, int index)
{
    const ft__ctc *g = (const ft__ctc *)context;
    size_t n = (size_t)index, t, s;
    ft__ctc_sample a = ft__ctc_take(g, n);
    float *dx = g->call->input[0].gradient + n * g->steps * g->classes;
    double *beta = g->beta + 2 * n * g->states, *other = beta + g->states;
    float scale = (float)(g->scale * ft__ctc_share(g, &a, n));
    if (!(g->loss[n] < HUGE_VAL)) return; /* no path, or not a number */
    for (s = 0; s < a.states; ++s) beta[s] = s + 2 < a.states ? ft__impossible() : 0;
    for (t = a.steps; t-- > 0;) {
        const float *y = a.y + t * a.classes;
        float *to = dx + t * a.classes;
        const double *alpha = a.alpha + t * a.row;
        double *turn = beta;
        for (s = 0; s < a.classes; ++s) to[s] += scale * ft__exp(y[s]);
        for (s = 0; s < a.states; ++s)
            to[ft__ctc_class(&a, s)] -= scale * ft__exp((float)(alpha[s] + beta[s] + g->loss[n]));
        ft__ctc_beta(&a, y, beta, other);
        beta = other;
        other = turn;
    }
}

static void ft__ctc_loss_backward(const ft__call *call)
{
    ft__ctc g = ft__ctc_of(call);
    g.scale = (double)call->output.gradient[0] / ft__sum_of_weights(call, g.samples);
    if (call->input[0].gradient)
        ft__parallel(call->context, (int)g.samples, ft__ctc_backward_sample, &g);
}

/* In files: `ctc_loss` | logits [N, T, classes], labels [N, S] (I32); and lengths (I32 [N]) or no
   third | `blank` 0, `zero_infinity` false */
static const ft__row ft__row_ctc_loss = {
    FT__NAMED(ctc_loss), 2, 3, FT__READS_X | FT__WEIGHS, ft__ctc_loss_shape,
    ft__ctc_loss_forward, FT__BACKWARD(ft__ctc_loss_backward), ft__ctc_loss_costs, ft__ctc_fields,
    NULL};

ft_node ft_ctc_loss(ft_model *m, const char *name, ft_node logits, ft_node labels,
                    ft_loss_options options)
{
    ft_node inputs[3], none = {0};
    inputs[0] = logits;
    inputs[1] = labels;
    inputs[2] = options.lengths;
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_ctc_loss, name, inputs, options.lengths.id ? 3 : 2, &options,
                        sizeof options);
}

int ft_ctc_decode(const float *logits, int steps, int classes, int blank, int *labels)
{
    int count = 0, before = -1, t;
    if (!FT__HAS_ARITHMETIC || !logits || !labels || classes < 1) return 0;
    for (t = 0; t < steps; ++t, logits += classes) {
        int best = ft__argmax(logits, classes);
        if (best != before && best != blank) labels[count++] = best;
        before = best;
    }
    return count;
}
