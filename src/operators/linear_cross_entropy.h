#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/column_sums.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/losses.h"

/* =============================================================================================
   [SECTION] operators/linear_cross_entropy: Cross-entropy of a linear layer
   x [N, D] or [N, L, D], labels [N] or [N, L], weight [V, D], bias [V] or none: ft_cross_entropy of
   x weight^T + bias, whose rows are made for some labels at a time and never kept: for those labels
   only that count. Backward makes them again.
       dx = S weight,  dweight = S^T x,  dbias = sum of S's rows, S: the gradient by the logits
   ============================================================================================= */
static ft_status ft__linear_cross_entropy_shape(ft__context *c, const ft__node *node,
                                                const ft__tensor *input, int input_count,
                                                ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[2].shape;
    char text[80], other[80];
    if (ft__cross_entropy_shape(c, node, input, input_count, output) != FT_OK) return c->status;
    if (w->rank != 2 || w->size[1] != x->size[x->rank - 1])
        return ft__fail(c, FT_SHAPE, "%s: expected x [.., D] and a weight [classes, D], not %s and"
                        " %s", node->name, ft__shape_text(x, text), ft__shape_text(w, other));
    if (input_count > 3 && (input[3].shape.rank != 1 || input[3].shape.size[0] != w->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: expected a bias [%d], not %s", node->name, w->size[0],
                        ft__shape_text(&input[3].shape, text));
    return ft__want_numbers(c, node, input + 2, input_count - 2);
}

#define FT__LOGITS ((size_t)1 << 20) /* made at a time, and as many of their gradients */

typedef struct ft__class_rows {
    ft__loss_job job;       /* first, for ft__label_loss; classes: V */
    size_t width, most;     /* D; rows that are made at a time */
    float *x, *logits, *slopes, *dx, *scratch;
    double *loss;           /* of each label */
    size_t *row;            /* the labels of these rows */
    size_t count, part;     /* rows now; rows per index of the parallel loop */
} ft__class_rows;

static ft__class_rows ft__class_rows_of(const ft__call *call)
{
    ft__class_rows r;
    size_t rows = ft__count(&call->input[1]);
    memset(&r, 0, sizeof r);
    r.job = ft__loss_rows(call);
    r.job.classes = (size_t)call->input[2].shape.size[0];
    r.width = (size_t)call->input[2].shape.size[1];
    r.most = FT__LOGITS / r.job.classes < 64 ? 64 : FT__LOGITS / r.job.classes;
    if (r.most > rows) r.most = rows;
    r.part = ft__lines_at_once(r.job.classes);
    r.loss = (double *)(void *)call->workspace;
    r.row = (size_t *)(void *)(r.loss + rows);
    r.x = (float *)(void *)(r.row + r.most);
    r.logits = r.x + r.most * r.width;
    r.slopes = r.logits + r.most * r.job.classes;
    r.dx = r.slopes + r.most * r.job.classes;
    r.scratch = r.dx + r.most * r.width;
    return r;
}

static void ft__linear_cross_entropy_costs(const ft__call *call, ft__costs *costs)
{
    ft__class_rows r = ft__class_rows_of(call);
    size_t rows = ft__count(&call->input[1]);
    size_t numbers = 2 * r.most * (r.width + r.job.classes);
    size_t k = ft__max_size(r.width, ft__max_size(r.job.classes, r.most));
    costs->workspace = rows * sizeof(double) + r.most * sizeof(size_t)
        + (numbers + ft__gemm_workspace(call->context, call->training ? k : r.width))
        * sizeof(float);
    costs->multiply_adds = (uint64_t)rows * r.width * r.job.classes;
}

/* Takes the next labels from *next on that count, and makes their rows of logits. */
static bool ft__make_logits(ft__class_rows *r, size_t *next)
{
    const ft__call *call = r->job.call;
    const int32_t *labels = ft__integers(&call->input[1]);
    const ft__tensor *bias = call->input_count > 3 ? &call->input[3] : NULL;
    size_t i;
    for (r->count = 0; *next < r->job.rows && r->count < r->most; ++*next) {
        if (ft__is_ignored(labels[*next])) continue;
        memcpy(r->x + r->count * r->width, call->input[0].value + *next * r->width,
               r->width * sizeof(float));
        r->row[r->count++] = *next;
    }
    for (i = 0; bias && i < r->count; ++i)
        memcpy(r->logits + i * r->job.classes, bias->value, r->job.classes * sizeof(float));
    ft__gemm_parallel(call->context, r->count, r->job.classes, r->width,
                      ft__rows_of(r->x, r->width),
                      ft__transposed(ft__rows_of(call->input[2].value, r->width)), r->logits,
                      r->job.classes, bias != NULL, r->scratch);
    return r->count > 0;
}

static void ft__class_rows_run(ft__class_rows *r, ft__body body)
{
    ft__parallel(r->job.call->context, (int)((r->count + r->part - 1) / r->part), body, r);
}

static void ft__class_rows_losses(void *context, int index)
{
    const ft__class_rows *r = (const ft__class_rows *)context;
    size_t i = (size_t)index * r->part, end = i + r->part;
    for (; i < end && i < r->count; ++i) {
        float *logarithms = r->slopes + i * r->job.classes;
        ft__softmax[r->job.call->context->simd](r->logits + i * r->job.classes, logarithms,
                                                r->job.classes, true);
        r->loss[r->row[i]] = ft__label_loss(&r->job, logarithms, r->row[i]);
    }
}

static void ft__linear_cross_entropy_forward(const ft__call *call)
{
    ft__class_rows r = ft__class_rows_of(call);
    size_t next = 0, n;
    double sum = 0;
    for (n = 0; n < r.job.rows; ++n) r.loss[n] = 0;
    while (ft__make_logits(&r, &next)) ft__class_rows_run(&r, ft__class_rows_losses);
    for (n = 0; n < r.job.rows; ++n) sum += r.loss[n];
    call->output.value[0] = (float)(sum / (double)ft__counted_labels(call, r.job.classes));
}

static void ft__class_rows_slopes(void *context, int index)
{
    const ft__class_rows *r = (const ft__class_rows *)context;
    size_t i = (size_t)index * r->part, end = i + r->part;
    for (; i < end && i < r->count; ++i) {
        float *line = r->logits + i * r->job.classes, *slopes = r->slopes + i * r->job.classes;
        ft__softmax[r->job.call->context->simd](line, line, r->job.classes, false);
        memset(slopes, 0, r->job.classes * sizeof *slopes);
        ft__label_slopes(&r->job, line, r->row[i], 1, slopes);
    }
}

static void ft__linear_cross_entropy_backward(const ft__call *call)
{
    ft__class_rows r = ft__class_rows_of(call);
    float *dx = call->input[0].gradient, *dweight = call->input[2].gradient;
    float *dbias = call->input_count > 3 ? call->input[3].gradient : NULL;
    ft__matrix slopes = ft__rows_of(r.slopes, r.job.classes);
    size_t next = 0, i, j;
    if (!dx && !dweight && !dbias) return;
    r.job.scale = call->output.gradient[0] / ft__counted_labels(call, r.job.classes);
    while (ft__make_logits(&r, &next)) {
        ft__class_rows_run(&r, ft__class_rows_slopes);
        if (dweight)
            ft__gemm_parallel(call->context, r.job.classes, r.width, r.count,
                              ft__transposed(slopes), ft__rows_of(r.x, r.width), dweight, r.width,
                              true, r.scratch);
        if (dbias)
            ft__add_column_sums(call->context, r.slopes, r.count, r.job.classes, dbias);
        if (!dx) continue;
        ft__gemm_parallel(call->context, r.count, r.width, r.job.classes, slopes,
                          ft__rows_of(call->input[2].value, r.width), r.dx, r.width, false,
                          r.scratch);
        for (i = 0; i < r.count; ++i)
            for (j = 0; j < r.width; ++j) dx[r.row[i] * r.width + j] += r.dx[i * r.width + j];
    }
}

/* In files: `linear_cross_entropy` | x [..., D], labels (I32), weight [classes, D], bias [classes]
   or no fourth | `label_smoothing` 0 */
static const ft__row ft__row_linear_cross_entropy = {
    FT__NAMED(linear_cross_entropy), 3, 4, FT__READS_X | FT__WEIGHS | FT__CLASSES | FT__OWN_LOGITS,
    ft__linear_cross_entropy_shape, ft__linear_cross_entropy_forward,
    ft__linear_cross_entropy_backward, ft__linear_cross_entropy_costs, ft__loss_fields, NULL};

ft_node ft_linear_cross_entropy(ft_model *m, const char *name, ft_node x, ft_node weight,
                                ft_node bias, ft_node labels, ft_loss_options options)
{
    ft_node inputs[4], none = {0};
    if (!FT__HAS(m, ATTENTION)) return none;
    inputs[0] = x;
    inputs[1] = labels;
    inputs[2] = weight;
    inputs[3] = bias;
    return ft__add_node(m, &ft__row_linear_cross_entropy, name, inputs, bias.id ? 4 : 3, &options,
                        sizeof options);
}
