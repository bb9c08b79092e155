#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/gemm.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/activations.h"

/* =============================================================================================
   [SECTION] operators/matmul: Permute, gather, matmul
   What sequences and attention are made of.
   ============================================================================================= */
static const ft__field ft__permute_fields[] = {
    {"axes", offsetof(ft__permute_options, axes), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__gather_fields[] = {
    {"axis", offsetof(ft__concat_options, axis), 1, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__matmul_fields[] = {
    {"transpose_a", offsetof(ft_matmul_options, transpose_a), 1, 'b'},
    {"transpose_b", offsetof(ft_matmul_options, transpose_b), 1, 'b'}, {NULL, 0, 0, 0}};

/* ---- permute: y's dimension d is x's dimension axes[d]; the batch stays the first ---- */

static ft_status ft__permute_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    const int *axes = node->options.permute.axes;
    unsigned seen = 0;
    int d;
    char text[80];
    *output = input[0].shape;
    for (d = 0; d < output->rank; ++d) {
        if (axes[d] < 0 || axes[d] >= output->rank || (axes[d] == 0) != (d == 0)
            || seen >> axes[d] & 1)
            return ft__fail(c, FT_SHAPE, "%s: axis %d of %s goes to place %d: the axes must be a"
                            " permutation that leaves the batch, 0, the first", node->name,
                            axes[d], ft__shape_text(&input[0].shape, text), d);
        seen |= 1u << axes[d];
        output->size[d] = input[0].shape.size[axes[d]];
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* How far apart in memory the neighbours along each of the user's dimensions are. */
static void ft__memory_steps(const ft__tensor *t, size_t *steps)
{
    ft_shape shape = ft__memory_shape(t);
    size_t step = 1, in_memory[FINETUNE_MAX_RANK];
    int d;
    for (d = shape.rank - 1; d >= 0; --d) {
        in_memory[d] = step;
        step *= (size_t)shape.size[d];
    }
    for (d = 0; d < shape.rank; ++d) steps[d] = in_memory[ft__memory_axis(t, d)];
}

/* A call and its direction, for permute's and gather's samples. */
typedef struct ft__either_way { const ft__call *call; bool backward; } ft__either_way;

/* One sample. y is walked in the user's order. */
static void ft__permute_sample(void *context, int sample)
{
    const ft__either_way *run = (const ft__either_way *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], each, i;
    int rank = y->shape.rank, d;
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        for (d = rank - 1; d > 0; --d) {
            size_t at = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            from += at * of_x[run->call->node->options.permute.axes[d]];
            to += at * of_y[d];
        }
        if (!run->backward) y->value[to] = x->value[from];
        else x->gradient[from] = (x->fresh ? 0 : x->gradient[from]) + y->gradient[to];
    }
}

static void ft__permute_run_all(const ft__call *call, bool backward)
{
    ft__either_way run;
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__permute_sample, &run);
}

static void ft__permute_forward(const ft__call *call) { ft__permute_run_all(call, false); }
static void ft__permute_backward(const ft__call *call) { ft__permute_run_all(call, true); }

/* ---- gather: y[n, .., k, .., rest] = x[n, .., index[n, .., k, ..], .., rest] along one axis.
   PyTorch's gather where the index has as many dimensions as x; dimensions behind those of the
   index are taken whole: an index [N, K] takes K rows of each sample of x [N, T, D]. ---- */

static ft_status ft__gather_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *index = &input[1].shape;
    int axis = node->options.concat.axis, d;
    char text[80], other[80];
    bool fits = axis >= 1 && axis < index->rank && index->rank <= x->rank;
    *output = *x;
    for (d = 0; fits && d < index->rank; ++d) fits = d == axis || index->size[d] == x->size[d];
    if (!fits || input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: along axis %d, %s cannot be gathered by an index %s: the"
                        " index holds I32 and has x's sizes but for that axis", node->name, axis,
                        ft__shape_text(x, text), ft__shape_text(index, other));
    output->size[axis] = index->size[axis];
    return ft__want_numbers(c, node, input, input_count - 1);
}

/* One sample: places of the index that lie before the axis, along it, and behind it; then the rest
   of x. A wrong index makes NaN, as a wrong label does. */
static void ft__gather_sample(void *context, int sample)
{
    const ft__either_way *run = (const ft__either_way *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    const ft__tensor *index = &run->call->input[1];
    int axis = run->call->node->options.concat.axis, rank = x->shape.rank, d;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], i, each;
    const int32_t *places = ft__integers(index);
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        size_t at[FINETUNE_MAX_RANK], place = (size_t)sample;
        int32_t wanted;
        for (d = rank - 1; d > 0; --d) {
            at[d] = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            to += at[d] * of_y[d];
            if (d != axis) from += at[d] * of_x[d];
        }
        for (d = 1; d < index->shape.rank; ++d)
            place = place * (size_t)index->shape.size[d] + at[d];
        wanted = places[place];
        if (wanted < 0 || wanted >= x->shape.size[axis]) {
            if (!run->backward) y->value[to] = (float)NAN;
            continue;
        }
        from += (size_t)wanted * of_x[axis];
        if (run->backward) x->gradient[from] += y->gradient[to];
        else y->value[to] = x->value[from];
    }
}

static void ft__gather_all(const ft__call *call, bool backward)
{
    ft__either_way run;
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__gather_sample, &run);
}

static void ft__gather_along_forward(const ft__call *call) { ft__gather_all(call, false); }
static void ft__gather_along_backward(const ft__call *call) { ft__gather_all(call, true); }

/* ---- matmul: a [N, .., M, K], b [N, .., K, P] -> y [N, .., M, P], one product for each place of
   the dimensions before the last two; either may lie transposed.
       dA = dY B^T, dB = A^T dY, transposed where a or b is ---- */

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
        return ft__fail(c, FT_SHAPE, "%s: %s%s times %s%s: wants [N, .., M, K] and [N, .., K, P]",
                        node->name, ft__shape_text(a, text), o->transpose_a ? " transposed" : "",
                        ft__shape_text(b, other), o->transpose_b ? " transposed" : "");
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

static bool ft__matmul_turns(const ft__call *call) { return call->output.channels_last; }

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
    size_t longest = ft__largest_of(run.k, ft__largest_of(run.m, run.p));
    size_t numbers = ft__gemm_workspace(call->context, call->training ? longest : run.k);
    if (call->output.shape.rank == 4) /* copies in the user's order, of gradients too */
        numbers += (call->training ? 2 : 1) * run.count
            * (run.m * run.k + run.k * run.p + run.m * run.p);
    costs->workspace = numbers * sizeof(float);
    costs->multiply_adds = (uint64_t)run.count * run.m * run.k * run.p;
}

/* Product number i of y, da or db; the matrices as they stand in the formulas above. */
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
    *add = run->which != 0 && !ft__matmul_turns(run->call)
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
    size_t most = ft__largest_of(run->k, ft__largest_of(run->m, run->p)), i, sizes[3];
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

/* A copy of one tensor in the user's order, in the next piece of the workspace; itself where it
   lies so. */
static const float *ft__matmul_in_order(ft__matmul_run *run, const ft__tensor *t,
                                        const float *values)
{
    float *copy = run->workspace;
    if (!ft__matmul_turns(run->call)) return values;
    run->workspace += ft__count(t);
    ft__turn(run->call->context, &t->shape, FT__TO_FIRST, values, copy, false);
    return copy;
}

static void ft__matmul_forward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_turns(call);
    run.a = ft__matmul_in_order(&run, &call->input[0], call->input[0].value);
    run.b = ft__matmul_in_order(&run, &call->input[1], call->input[1].value);
    run.y = turns ? run.workspace : call->output.value;
    if (turns) run.workspace += ft__count(&call->output);
    ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
    if (turns)
        ft__turn(call->context, &call->output.shape, FT__TO_LAST, run.y, call->output.value,
                 false);
}

static void ft__matmul_backward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_turns(call);
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
            ft__turn(call->context, &t->shape, FT__TO_LAST, run.which == 1 ? run.da : run.db,
                     t->gradient, !t->fresh);
    }
}
