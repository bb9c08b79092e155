#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "kernels/transpose.h"
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
   the dimensions before the last two; a and b may be stored transposed.
       dA = dY B^T, dB = A^T dY, transposed if a or b is ---- */

static ft_status ft__matmul_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_matmul_options *o = &node->options.matmul;
    const ft_shape *a = &input[0].shape, *b = &input[1].shape;
    int last = a->rank - 1, d;
    char text[80], other[80];
    bool fits = a->rank >= 3 && a->rank == b->rank;
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
    const float *a, *b, *dy;
    float *y, *da, *db;             /* each in the user's order */
    float *workspace;
    int which;                      /* 0: y, 1: da, 2: db */
} ft__matmul_run;

static bool ft__matmul_transposes(const ft__call *call) { return call->output.channels_last; }

static ft__matmul_run ft__matmul_start(const ft__call *call)
{
    const ft_matmul_options *o = &call->node->options.matmul;
    const ft_shape *a = &call->input[0].shape;
    int last = a->rank - 1;
    ft__matmul_run run;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.m = (size_t)call->output.shape.size[last - 1];
    run.p = (size_t)call->output.shape.size[last];
    run.k = (size_t)a->size[o->transpose_a ? last - 1 : last];
    run.count = ft__count(&call->output) / (run.m * run.p);
    run.workspace = call->workspace;
    return run;
}

static void ft__matmul_costs(const ft__call *call, ft__costs *costs)
{
    ft__matmul_run run = ft__matmul_start(call);
    size_t longest = ft__max_size(run.k, ft__max_size(run.m, run.p));
    size_t numbers = ft__gemm_workspace(call->context, call->training ? longest : run.k);
    if (call->output.shape.rank == 4) /* copies in the user's order, of gradients too */
        numbers += (call->training ? 2 : 1) * run.count
            * (run.m * run.k + run.k * run.p + run.m * run.p);
    costs->workspace = numbers * sizeof(float);
    costs->multiply_adds = (uint64_t)run.count * run.m * run.k * run.p;
}

/* Product number i of y, da or db, with the matrices as in the formulas above. */
static void ft__matmul_product(const ft__matmul_run *run, size_t i, ft__matrix *left,
                               ft__matrix *right, float **to, size_t sizes[3], bool *add)
{
    const ft_matmul_options *o = &run->call->node->options.matmul;
    size_t m = run->m, k = run->k, p = run->p;
    ft__matrix a = o->transpose_a ? ft__transposed(ft__rows_of(run->a + i * m * k, m))
                                  : ft__rows_of(run->a + i * m * k, k);
    ft__matrix b = o->transpose_b ? ft__transposed(ft__rows_of(run->b + i * k * p, k))
                                  : ft__rows_of(run->b + i * k * p, p);
    ft__matrix dy = ft__rows_of(run->which ? run->dy + i * m * p : run->a, p);
    bool flip = run->which == 1 ? o->transpose_a : o->transpose_b;
    size_t swap;
    sizes[0] = run->which == 2 ? k : m;
    sizes[1] = run->which == 1 ? k : p;
    sizes[2] = run->which == 0 ? k : run->which == 1 ? p : m;
    *left = run->which == 0 ? a : run->which == 1 ? dy : ft__transposed(a);
    *right = run->which == 0 ? b : run->which == 1 ? ft__transposed(b) : dy;
    *to = (run->which == 0 ? run->y : run->which == 1 ? run->da : run->db)
        + i * sizes[0] * sizes[1];
    *add = run->which != 0 && !ft__matmul_transposes(run->call)
        && !run->call->input[run->which - 1].fresh;
    if (run->which == 0 || !flip) return;
    a = *left; /* (L R)^T = R^T L^T */
    *left = ft__transposed(*right);
    *right = ft__transposed(a);
    swap = sizes[0];
    sizes[0] = sizes[1];
    sizes[1] = swap;
}

static void ft__matmul_slot(void *context, int slot)
{
    const ft__matmul_run *run = (const ft__matmul_run *)context;
    size_t most = ft__max_size(run->k, ft__max_size(run->m, run->p)), i, sizes[3];
    ft__product x;
    memset(&x, 0, sizeof x);
    x.context = run->call->context;
    x.workspace = run->workspace
        + (size_t)slot * ft__gemm_scratch(run->call->training ? most : run->k);
    for (i = (size_t)slot; i < run->count; i += (size_t)x.context->threads) {
        ft__matmul_product(run, i, &x.a, &x.b, &x.out, sizes, &x.accumulate);
        x.k = sizes[2];
        x.stride = sizes[1];
        ft__gemm_piece(&x, 0, sizes[0], 0, sizes[1], x.workspace);
    }
}

/* Returns a tensor in the user's order: a copy in the next piece of the workspace, or the tensor
   itself if it is stored so. */
static const float *ft__matmul_in_order(ft__matmul_run *run, const ft__tensor *t,
                                        const float *values)
{
    float *copy = run->workspace;
    if (!ft__matmul_transposes(run->call)) return values;
    run->workspace += ft__count(t);
    ft__transpose(run->call->context, &t->shape, FT__TO_FIRST, values, copy, false);
    return copy;
}

static void ft__matmul_forward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_transposes(call);
    run.a = ft__matmul_in_order(&run, &call->input[0], call->input[0].value);
    run.b = ft__matmul_in_order(&run, &call->input[1], call->input[1].value);
    run.y = turns ? run.workspace : call->output.value;
    if (turns) run.workspace += ft__count(&call->output);
    ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
    if (turns)
        ft__transpose(call->context, &call->output.shape, FT__TO_LAST, run.y, call->output.value,
                      false);
}

static void ft__matmul_backward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_transposes(call);
    run.a = ft__matmul_in_order(&run, &call->input[0], call->input[0].value);
    run.b = ft__matmul_in_order(&run, &call->input[1], call->input[1].value);
    run.dy = ft__matmul_in_order(&run, &call->output, call->output.gradient);
    run.da = turns ? run.workspace : call->input[0].gradient;
    if (turns) run.workspace += ft__count(&call->input[0]);
    run.db = turns ? run.workspace : call->input[1].gradient;
    if (turns) run.workspace += ft__count(&call->input[1]);
    for (run.which = 1; run.which <= 2; ++run.which) {
        const ft__tensor *t = &call->input[run.which - 1];
        if (!t->gradient) continue;
        ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
        if (turns)
            ft__transpose(call->context, &t->shape, FT__TO_LAST, run.which == 1 ? run.da : run.db,
                          t->gradient, !t->fresh);
    }
}

static const ft__row ft__row_matmul = {
    FT__NAMED(matmul), 2, 2, FT__READS_X | FT__WRITES | FT__WRITES_ALL,
    ft__matmul_shape, ft__matmul_forward, ft__matmul_backward, ft__matmul_costs, ft__matmul_fields,
    NULL};

ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b, ft_matmul_options options)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.matmul = options;
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, &ft__row_matmul, name, inputs, 2, &o);
}
