#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/matmul: matmul
   Batched matrix products, for sequences and attention.
   ============================================================================================= */
static const ft__field ft__matmul_fields[] = {
    FT__BOOL(ft_matmul_options, transpose_a), FT__BOOL(ft_matmul_options, transpose_b),
    FT__NO_MORE_FIELDS};

/* ---- matmul: a [N, .., M, K], b [N, .., K, P] -> y [N, .., M, P], one product for each index of
   the dimensions before the last two; a and b may be transposed.
       dA = dY B^T, dB = A^T dY, transposed if a or b is
   Each tensor may be stored in any order of its dimensions, in which one of the last two is the
   innermost: then rows or columns of each matrix are contiguous ---- */

static ft_status ft__matmul_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_matmul_options *o = &node->options.matmul;
    const ft_shape *a = &input[0].shape, *b = &input[1].shape;
    int last = a->rank - 1, d;
    char text[80], other[80];
    bool fits = a->rank >= 2 && a->rank == b->rank;
    *output = *a;
    for (d = 0; fits && d < last - 1; ++d) fits = a->size[d] == b->size[d];
    if (!fits || a->size[o->transpose_a ? last - 1 : last]
                 != b->size[o->transpose_b ? last : last - 1])
        return ft__fail(c, FT_SHAPE, "%s: %s%s times %s%s: expected [N, .., M, K] times [N, .., K,"
                        " P]", node->name, ft__shape_text(a, text),
                        o->transpose_a ? " transposed" : "", ft__shape_text(b, other),
                        o->transpose_b ? " transposed" : "");
    output->size[last - 1] = a->size[o->transpose_a ? last : last - 1];
    output->size[last] = b->size[o->transpose_b ? last - 1 : last];
    return ft__want_numbers(c, node, input, input_count);
}

typedef struct ft__matmul_run {
    const ft__call *call;
    size_t count, m, k, p;          /* products, and the sizes of each */
    int which;                      /* 0: y, 1: da, 2: db */
} ft__matmul_run;

static ft__matmul_run ft__matmul_start(const ft__call *call)
{
    const ft_matmul_options *o = &call->node->options.matmul;
    const ft_shape *a = &call->input[0].shape;
    int last = a->rank - 1;
    ft__matmul_run run;
    run.call = call;
    run.m = (size_t)call->output.shape.size[last - 1];
    run.p = (size_t)call->output.shape.size[last];
    run.k = (size_t)a->size[o->transpose_a ? last - 1 : last];
    run.count = ft__count(&call->output) / (run.m * run.p);
    run.which = 0;
    return run;
}

static void ft__matmul_costs(const ft__call *call, ft__costs *costs)
{
    ft__matmul_run run = ft__matmul_start(call);
    size_t longest = ft__max_size(run.k, ft__max_size(run.m, run.p));
    costs->workspace = ft__gemm_workspace(call->context, call->training ? longest : run.k)
        * sizeof(float);
    costs->multiply_adds = (uint64_t)run.count * run.m * run.k * run.p;
}

/* Matrix number i of a tensor's values or gradients, or its transpose. */
static ft__matrix ft__matmul_matrix(const ft__tensor *t, const float *values, size_t i,
                                    bool transposed)
{
    size_t steps[FINETUNE_MAX_RANK];
    int last = t->shape.rank - 1, d;
    ft__matrix x;
    ft__memory_steps(t, steps);
    x.at = values;
    x.row = (ptrdiff_t)steps[transposed ? last : last - 1];
    x.column = (ptrdiff_t)steps[transposed ? last - 1 : last];
    for (d = last - 2; d >= 0; --d) {
        x.at += i % (size_t)t->shape.size[d] * steps[d];
        i /= (size_t)t->shape.size[d];
    }
    return x;
}

/* Product number i of y, da or db, with the matrices as in the formulas above. */
static void ft__matmul_product(const ft__matmul_run *run, size_t i, ft__product *x)
{
    const ft__call *call = run->call;
    const ft_matmul_options *o = &call->node->options.matmul;
    const ft__tensor *ta = &call->input[0], *tb = &call->input[1], *ty = &call->output;
    ft__matrix a = ft__matmul_matrix(ta, ta->value, i, o->transpose_a), out;
    ft__matrix b = ft__matmul_matrix(tb, tb->value, i, o->transpose_b);
    ft__matrix dy = ft__matmul_matrix(ty, run->which ? ty->gradient : ty->value, i, false);
    out = run->which == 0 ? dy
        : run->which == 1 ? ft__matmul_matrix(ta, ta->gradient, i, o->transpose_a)
                          : ft__matmul_matrix(tb, tb->gradient, i, o->transpose_b);
    x->m = run->which == 2 ? run->k : run->m;
    x->n = run->which == 1 ? run->k : run->p;
    x->k = run->which == 0 ? run->k : run->which == 1 ? run->p : run->m;
    x->a = run->which == 0 ? a : run->which == 1 ? dy : ft__transposed(a);
    x->b = run->which == 0 ? b : run->which == 1 ? ft__transposed(b) : dy;
    x->accumulate = run->which != 0 && !call->input[run->which - 1].fresh;
    if (out.column != 1) { /* the result's columns are contiguous: out^T = b^T a^T */
        size_t swap = x->m;
        ft__matrix left = x->a;
        x->m = x->n;
        x->n = swap;
        x->a = ft__transposed(x->b);
        x->b = ft__transposed(left);
        out = ft__transposed(out);
    }
    x->out = (float *)(uintptr_t)out.at;
    x->stride = (size_t)out.row;
}

static void ft__matmul_slot(void *context, int slot)
{
    const ft__matmul_run *run = (const ft__matmul_run *)context;
    size_t most = ft__max_size(run->k, ft__max_size(run->m, run->p)), i;
    ft__product x;
    memset(&x, 0, sizeof x);
    x.context = run->call->context;
    x.workspace = run->call->workspace
        + (size_t)slot * ft__gemm_scratch(run->call->training ? most : run->k);
    for (i = (size_t)slot; i < run->count; i += (size_t)x.context->threads) {
        ft__matmul_product(run, i, &x);
        ft__gemm_piece(&x, 0, x.m, 0, x.n, x.workspace);
    }
}

static void ft__matmul_forward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
}

static void ft__matmul_backward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    for (run.which = 1; run.which <= 2; ++run.which)
        if (call->input[run.which - 1].gradient)
            ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
}

/* In files: `matmul` | a, b | `transpose_a` false, `transpose_b` false */
static const ft__row ft__row_matmul = {
    FT__NAMED(matmul), 2, 2, FT__READS_X | FT__WRITES | FT__WRITES_ALL | FT__STRIDED | FT__MIXES,
    ft__matmul_shape, ft__matmul_forward, FT__BACKWARD(ft__matmul_backward), ft__matmul_costs,
    ft__matmul_fields, NULL};

ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b, ft_matmul_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_pair(m, &ft__row_matmul, name, a, b, &options, sizeof options);
}
