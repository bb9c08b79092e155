#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/readers.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_folding.h"
#include "formats/onnx_making.h"
#include "formats/onnx_counting.h"
#include "formats/onnx_elements.h"

/* =============================================================================================
   [SECTION] formats/onnx_shapes: ONNX operators that move numbers
   ============================================================================================= */
#if FT__HAS_ONNX

/* The file's fixed batch size in the place of N. */
static void ft__onnx_fix_batch(const ft__onnx *x, ft__onnx_number *number)
{
    for (; number->n > 0; number->n -= 1) number->k *= x->batch;
}

/* Whether the batch is in axis d of a new shape, where so many numbers are before it; sets that. */
static bool ft__onnx_has_batch(const ft__onnx *x, ft__onnx_value *y, int d, ft__onnx_number before,
                               bool whole)
{
    ft__onnx_number outer = ft__onnx_over(before, ft__onnx_product(y, 0, d)), size = y->size[d];
    ft__onnx_number inner;
    double k = x->batch > 0 ? size.k / x->batch : 0;
    if (whole && !ft__onnx_is(outer, 1)) return false;
    if (x->batch > 0 && size.n == 0 && k >= 1 && k <= floor(k)) {
        size.k = k;
        size.n = 1;
    }
    inner = ft__onnx_over(size, outer);
    if (inner.n != 1 || !(outer.k >= 1) || !(inner.k >= 1) || inner.k > floor(inner.k)
        || outer.k > floor(outer.k)) return false;
    y->size[d] = size;
    y->batch = d;
    y->outer = outer;
    return true;
}

/* Finds the batch's axis in a new shape of v's numbers: the numbers before it must be as many as
   before. False: there is none. */
static bool ft__onnx_find_batch(const ft__onnx *x, const ft__onnx_value *v, ft__onnx_value *y)
{
    ft__onnx_number before = ft__onnx_product(v, 0, v->batch);
    int d, whole;
    if (v->outer.k > 0) before = ft__onnx_times(before, v->outer);
    for (whole = 1; whole >= 0; --whole)
        for (d = 0; d < y->rank; ++d)
            if (x->batch > 0 && whole && d + 1 < y->rank && !ft__onnx_is(y->size[d], x->batch)
                && y->size[d].n == 0) continue; /* rather an axis that is the batch alone */
            else if (ft__onnx_has_batch(x, y, d, before, whole != 0)) return true;
    return false;
}

static const char *ft__onnx_reshape(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y, fixed;
    if (!v) return ft__onnx_needs_node;
    y = fixed = *v;
    if (x->batch > 0) {
        ft__onnx_value *list = ft__onnx_input(x, n, 1);
        int64_t count = list && list->numbers && !list->same ? ft__onnx_count(list) : 0, i;
        for (i = 0; i < count; ++i) ft__onnx_fix_batch(x, &list->numbers[i]);
        for (i = 0; i < fixed.rank; ++i) ft__onnx_fix_batch(x, &fixed.size[i]);
    }
    if (!ft__onnx_reshaped(x, n, &fixed, &y)) return ft__onnx_not_known;
    if (!ft__onnx_find_batch(x, v, &y)) return "a shape that mixes samples is not supported";
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, ft__onnx_name_of(x, n), v->made, v, &y),
                            &y);
}

/* A node with its axes in another order, which may only move the batch; y gets the shape. */
static int ft__onnx_make_turn(ft__onnx *x, const char *name, const ft__onnx_value *v,
                              const int *axes, ft__onnx_value *y)
{
    int own[FT__ONNX_RANK + 1], rank = 0, d;
    bool same = true;
    ft__text fields = ft__onnx_fields(x);
    *y = *v;
    own[rank++] = 0;
    if (ft__onnx_is_merged(v)) own[rank++] = 1;
    for (d = 0; d < v->rank; ++d) {
        y->size[d] = v->size[axes[d]];
        if (axes[d] == v->batch) y->batch = d;
        else own[rank++] = ft__onnx_own_axis(v, axes[d]);
    }
    for (d = 0; d < rank; ++d) same = same && own[d] == d;
    if (same) return v->made;
    ft__json_add_ints(&fields, "axes", own, rank);
    return ft__onnx_make_one(x, "permute", name, v->made, &fields);
}

static const char *ft__onnx_transpose(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    int axes[FT__ONNX_RANK], made;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_turn(n, v->rank, axes)) return "its perm is no permutation";
    made = ft__onnx_make_turn(x, ft__onnx_name_of(x, n), v, axes, &y);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* A part of a node: in our order of its axes. */
static int ft__onnx_make_slice(ft__onnx *x, const char *name, const ft__onnx_value *v,
                               const ft__onnx_cut *cut)
{
    int start[FT__ONNX_RANK + 1] = {0}, stop[FT__ONNX_RANK + 1] = {0};
    int step[FT__ONNX_RANK + 1], d, at;
    bool all = true;
    ft__onnx_number own[FT__ONNX_RANK + 1];
    int rank = ft__onnx_own(v, own);
    ft__text fields = ft__onnx_fields(x);
    for (d = 0; d < rank; ++d) step[d] = 1;
    for (d = 0; d < v->rank; ++d) {
        if (cut->open[d]) continue;
        if (!(cut->stop[d] > cut->start[d]) || cut->step[d] < 1) return -1;
        at = ft__onnx_own_axis(v, d);
        start[at] = (int)cut->start[d];
        stop[at] = cut->stop[d] < v->size[d].k ? (int)cut->stop[d] : 0;
        step[at] = cut->step[d] > INT_MAX ? INT_MAX : (int)cut->step[d];
        all = all && start[at] == 0 && stop[at] == 0 && step[at] == 1;
    }
    if (all) return v->made;
    ft__json_add_ints(&fields, "start", start, rank);
    ft__json_add_ints(&fields, "stop", stop, rank);
    ft__json_add_ints(&fields, "step", step, rank);
    return ft__onnx_make_one(x, "slice", name, v->made, &fields);
}

static const char *ft__onnx_slice(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    ft__onnx_cut cut;
    int d;
    if (!v) return ft__onnx_needs_node;
    if (!ft__onnx_cut_of(x, n, v, &cut))
        return "only parts of axes of known size, from a lower to a higher index, are supported";
    y = *v;
    for (d = 0; d < v->rank; ++d) y.size[d] = ft__onnx_cut_size(v, &cut, d);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_slice(x, ft__onnx_name_of(x, n), v, &cut), &y);
}

static const char *ft__onnx_split(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    double begin[FT__ONNX_PARTS + 1];
    int axis, i;
    const char *fault = NULL;
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank);
    if (axis < 0 || !ft__onnx_is_known(v->size[axis])) return ft__onnx_not_known;
    if (!ft__onnx_parts_of(x, n, v, axis, begin, FT__ONNX_PARTS))
        return "needs a size for each output, which are the size of its axis together";
    for (i = 0; i < n->output_count && !fault; ++i) {
        ft__onnx_cut cut;
        ft__onnx_value *to = ft__onnx_output(x, n, i);
        ft__onnx_whole(v, &cut);
        cut.start[axis] = begin[i];
        cut.stop[axis] = begin[i + 1];
        if (!to) continue;
        y = *v;
        y.size[axis] = ft__onnx_known(cut.stop[axis] - cut.start[axis]);
        fault = ft__onnx_is_made(x, n, i, ft__onnx_make_slice(x, to->name, v, &cut), &y);
    }
    return fault;
}

/* Rows of a table that are the same at each step, or those of the steps. The former is the product
   of a constant, 1 at that row, with the table, which so stays a weight. */
static const char *ft__onnx_gather_rows(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *table,
                                        ft__onnx_value *index, int axis)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), *one, shape;
    const char *name = ft__onnx_name_of(x, n);
    int size[2], made;
    double row = 0;
    if (axis != 0 || table->rank != 2 || !y || index->rank < 1 || index->rank >= FT__ONNX_RANK)
        return ft__onnx_needs_node;
    y->rank = index->rank + 1;
    memcpy(y->size, index->size, sizeof y->size);
    y->size[index->rank] = table->size[1];
    y->type = table->type;
    if (index->steps) { /* the step is the last axis */
        int d;
        for (d = 0; d < index->rank; ++d)
            if (!ft__onnx_is(index->steps[d], d + 1 == index->rank)) return ft__onnx_needs_node;
        if (index->size[index->rank - 1].l != 1) return ft__onnx_needs_node;
        y->kind = FT__ONNX_POSITIONS;
        y->made = n->inputs[0];
        y->numbers = index->numbers;
        return NULL;
    }
    if (!ft__onnx_is_run(x, index, 0, &row) || row < 0 || row >= table->size[0].k)
        return ft__onnx_needs_node;
    memset(&shape, 0, sizeof shape);
    shape.rank = 2;
    shape.size[0] = ft__onnx_known(1);
    shape.size[1] = table->size[0];
    one = ft__onnx_new_constant(x, ft__onnx_name(x, name, ".row"), &shape);
    if (!one) return ft__onnx_not_known;
    table = &x->values[n->inputs[0]]; /* values may have moved */
    y = &x->values[n->outputs[0]];
    one->numbers[(int)row] = ft__onnx_known(1);
    size[0] = 1;
    size[1] = ft__onnx_size(table->size[0]);
    made = ft__onnx_weight(x, one, "constant", size, 2);
    made = ft__onnx_make_two(x, "linear", name, made, ft__onnx_matrix(x, table, false), NULL);
    if (made < 0) return "its weight is not one matrix";
    y->kind = FT__ONNX_ROW;
    y->made = made;
    return NULL;
}

/* Indices as integers: an input of ids, the places of a TopK, or numbers that were computed. */
static int ft__onnx_make_indices(ft__onnx *x, const char *name, int made)
{
    if (ft__onnx_is_raw_input(x, made) && strstr(x->made[made].fields, "I32")) return made;
    if (ft__onnx_is_op(x, made, "to_f32")) return x->made[made].inputs[0];
    return ft__onnx_make_one(x, "to_i32", ft__onnx_name(x, name, ".index"), made, NULL);
}

/* The batch and the steps of `v` in new places: as axis 0 and axis `steps` of an index's shape,
   with what follows them. */
static const char *ft__onnx_place_steps(ft__onnx *x, const ft__onnx_node *n,
                                        const ft__onnx_value *v, const ft__onnx_value *index,
                                        int rank, int steps, int more)
{
    ft__onnx_value y = *v, to;
    int d, made;
    for (d = 0; d < rank; ++d) y.size[d] = ft__onnx_known(1);
    y.size[0].n = y.size[steps].l = 1;
    for (d = 0; d < more; ++d) y.size[rank + d] = v->size[v->rank - more + d];
    y.rank = rank + more;
    y.batch = 0;
    to = y;
    for (d = 0; d < rank; ++d) to.size[d] = index->size[d];
    made = ft__onnx_make_shape(x, ft__onnx_name_of(x, n), v->made, v, &y);
    if (made >= 0)
        made = ft__onnx_make_stretched(x, ft__onnx_name(x, ft__onnx_name_of(x, n), ".whole"), made,
                                       &y, &to);
    return made < 0 ? ft__onnx_not_known : ft__onnx_is_made(x, n, 0, made, &y);
}

/* Gather of [N L, ...] by indices i L + j of samples i and steps j: see onnx_counting. */
static const char *ft__onnx_gather_samples(ft__onnx *x, const ft__onnx_node *n,
                                           const ft__onnx_value *v, const ft__onnx_value *index)
{
    ft__onnx_number row = ft__onnx_known(1), after = row;
    ft__onnx_value y = *v;
    int d, steps = -1;
    bool fits = v->batch == 0 && index->rank > 1 && index->size[0].n == 1
        && ft__onnx_is(index->numbers[0], 0) && index->rank + v->rank - 1 <= FT__ONNX_RANK;
    for (d = index->rank - 1; d >= 0; --d) { /* all in their order, as as_strided is exported */
        if (!ft__onnx_is(index->size[d], 1) && !ft__onnx_equal(index->steps[d], after)) break;
        after = ft__onnx_times(after, index->size[d]);
    }
    if (fits && d < 0 && ft__onnx_equal(after, v->size[0])) {
        y.rank = index->rank + v->rank - 1;
        memcpy(y.size, index->size, (size_t)index->rank * sizeof *y.size);
        memcpy(y.size + index->rank, v->size + 1, (size_t)(v->rank - 1) * sizeof *y.size);
        return ft__onnx_is_made(x, n, 0, ft__onnx_make_shape(x, ft__onnx_name_of(x, n), v->made, v,
                                                             &y), &y);
    }
    row.l = 1;
    fits = fits && ft__onnx_equal(index->steps[0], row)
        && ft__onnx_equal(v->size[0], ft__onnx_times(row, index->size[0]));
    for (d = 1; d < index->rank && fits; ++d) {
        if (ft__onnx_is(index->steps[d], 0)) continue;
        fits = steps < 0 && ft__onnx_is(index->steps[d], 1)
            && ft__onnx_size_is_length(index->size[d]);
        steps = d;
    }
    if (!fits || steps < 0) return "by such indices of the batch is not supported";
    return ft__onnx_place_steps(x, n, v, index, index->rank, steps, v->rank - 1);
}

/* GatherND of [N, L, ...] by pairs of a sample and a step. */
static const char *ft__onnx_gather_nd(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *index = ft__onnx_input(x, n, 1);
    const ft__onnx_node *pair;
    int steps;
    if (!v) return ft__onnx_needs_node;
    pair = index && index->producer >= 0 ? &x->nodes[index->producer] : NULL;
    if (!pair || strcmp(pair->op, "Concat") != 0 || pair->input_count != 2
        || index->kind != FT__ONNX_CONSTANT || ft__onnx_int(n, "batch_dims", 0)
        || !ft__onnx_is(index->size[index->rank - 1], 2) || v->rank < 2 || v->batch != 0
        || ft__onnx_is_merged(v) || !ft__onnx_size_is_length(v->size[1])
        || index->rank + v->rank - 3 > FT__ONNX_RANK
        || ft__onnx_counted_axis(&x->values[pair->inputs[0]], true) != 0)
        return "is supported for the indices of all samples and steps";
    steps = ft__onnx_counted_axis(&x->values[pair->inputs[1]], false);
    if (steps < 1 || steps > index->rank - 2)
        return "is supported for the indices of all samples and steps";
    return ft__onnx_place_steps(x, n, v, index, index->rank - 1, steps, v->rank - 2);
}

/* One index, or several that follow each other, of an axis; rows of a table by ids. */
static const char *ft__onnx_gather(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *index = ft__onnx_input(x, n, 1), y, cut_shape;
    ft__onnx_cut cut;
    bool pooled;
    double at[256];
    const char *name = ft__onnx_name_of(x, n);
    int axis = v ? ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank) : -1;
    int count, made, i, d, size[2];
    ft__text fields = ft__onnx_fields(x);
    if (axis < 0 || !index) return "has no such axis";
    y = *index;
    if (v->kind == FT__ONNX_CONSTANT && index->kind == FT__ONNX_CONSTANT)
        return ft__onnx_gather_rows(x, n, v, index, axis);
    if (v->kind == FT__ONNX_CONSTANT && index->kind == FT__ONNX_NODE) { /* an embedding */
        if (axis != 0 || v->rank != 2 || index->rank + 1 > FT__ONNX_RANK || index->batch != 0)
            return "is supported of rows of a matrix";
        size[0] = ft__onnx_size(v->size[0]);
        size[1] = ft__onnx_size(v->size[1]);
        made = ft__onnx_make_two(x, "embedding", name,
                                 ft__onnx_make_indices(x, name, index->made),
                                 ft__onnx_weight(x, v, "parameter", size, 2), NULL);
        y.size[y.rank++] = v->size[1];
        y.type = v->type;
        return ft__onnx_is_made(x, n, 0, made, &y);
    }
    if (v->kind == FT__ONNX_NODE && axis == v->batch && index->steps)
        return ft__onnx_gather_samples(x, n, v, index);
    count = ft__onnx_wholes(x, index, at, 256);
    if (v->kind != FT__ONNX_NODE || axis == v->batch || count < 1 || index->rank > 1)
        return "is supported with constant indices, of an axis that is not the batch";
    y = *v;
    pooled = index->rank == 0 && v->rank == 3 && v->batch == (axis == 0) && axis < 2 && at[0] <= 0
        && at[0] >= -1 && ft__onnx_size(v->size[axis]) == FT_LENGTH && !ft__onnx_is_merged(v);
    if (pooled) {
        ft__onnx_add_int(&fields, "kind", at[0] < 0 ? 0 : 4); /* the last step, or the first */
        made = ft__onnx_make_one(x, "step_pool", name, v->made, &fields);
    } else {
        if (!ft__onnx_is_known(v->size[axis])) return ft__onnx_not_known;
        for (i = 0; i < count; ++i) {
            at[i] += at[i] < 0 ? v->size[axis].k : 0;
            if (i > 0 && (at[i] < at[i - 1] + 1 || at[i] > at[i - 1] + 1))
                return "is supported with indices that follow each other";
        }
        if (at[0] < 0 || at[count - 1] >= v->size[axis].k) return "an index is out of range";
        ft__onnx_whole(v, &cut);
        cut.start[axis] = at[0];
        cut.stop[axis] = at[0] + count;
        cut_shape = *v;
        cut_shape.size[axis] = y.size[axis] = ft__onnx_known(count);
        made = ft__onnx_make_slice(x, index->rank ? name : ft__onnx_name(x, name, ".part"), v,
                                   &cut);
        if (index->rank) return ft__onnx_is_made(x, n, 0, made, &y);
    }
    for (d = axis; d + 1 < v->rank; ++d) y.size[d] = v->size[d + 1];
    y.rank = v->rank - 1;
    y.batch = v->batch - (axis < v->batch);
    if (!pooled) made = ft__onnx_make_shape(x, name, made, &cut_shape, &y);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* Concat of a node and constants that are the same for each sample, such as a class token: the node
   between zeros, plus each constant between zeros. */
static const char *ft__onnx_concat_constants(ft__onnx *x, const ft__onnx_node *n,
                                             const ft__onnx_value *v, int axis)
{
    int own = ft__onnx_own_axis(v, axis), i, d, made, sum = -1, size[FT__ONNX_RANK];
    const char *name = ft__onnx_name_of(x, n);
    double all = 0, at = 0;
    ft__onnx_value y = *v;
    for (i = 0; i < n->input_count; ++i) {
        const ft__onnx_value *from = ft__onnx_input(x, n, i);
        if (!from || from->rank != v->rank || !ft__onnx_is_known(from->size[axis]))
            return ft__onnx_not_known;
        if (from->kind == FT__ONNX_NODE ? from->made != v->made : !from->repeated)
            return "is supported of nodes, or of one node and constants";
        all += from->size[axis].k;
    }
    for (i = 0; i < n->input_count; ++i) {
        ft__onnx_value *from = ft__onnx_input(x, n, i);
        int before[FT__ONNX_RANK + 1] = {0}, after[FT__ONNX_RANK + 1] = {0};
        ft__text fields = ft__onnx_fields(x);
        ft__onnx_value one = *from;
        made = from->made;
        one.size[0] = ft__onnx_known(1);
        for (d = 0; d < v->rank; ++d) size[d] = d ? ft__onnx_size(from->size[d]) : 1;
        if (from->kind != FT__ONNX_NODE)
            made = ft__onnx_weight(x, &one, "parameter", size, v->rank);
        before[own] = (int)at;
        at += from->size[axis].k;
        after[own] = (int)(all - at);
        ft__json_add_ints(&fields, "before", before, v->rank);
        ft__json_add_ints(&fields, "after", after, v->rank);
        name = ft__onnx_name(x, name, "_");
        made = ft__onnx_make_one(x, "pad", ft__onnx_name(x, name, ".pad"), made, &fields);
        sum = sum < 0 ? made : ft__onnx_make_two(x, "add", name, sum, made, NULL);
    }
    y.size[axis] = ft__onnx_known(all);
    return ft__onnx_is_made(x, n, 0, sum, &y);
}

static const char *ft__onnx_concat(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = NULL, y;
    int axis, own, i, d, *inputs, made;
    ft__text fields = ft__onnx_fields(x);
    bool constants = false;
    for (i = n->input_count - 1; i >= 0; --i) {
        if (ft__onnx_node_in(x, n, i)) v = ft__onnx_node_in(x, n, i);
        else constants = true;
    }
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", 1), v->rank);
    if (axis < 0 || axis == v->batch) return "of the batch is not supported";
    y = *v;
    if (constants && v->batch == 0 && !ft__onnx_is_merged(v))
        return ft__onnx_concat_constants(x, n, v, axis);
    y.size[axis] = ft__onnx_known(0);
    inputs = (int *)ft__file_memory(x->file, (size_t)n->input_count * sizeof(int));
    for (i = 0; inputs && i < n->input_count; ++i) {
        const ft__onnx_value *from = ft__onnx_node_in(x, n, i);
        if (!from) return ft__onnx_needs_node;
        if (from->rank != v->rank || from->batch != v->batch
            || !ft__onnx_is_known(from->size[axis])) return ft__onnx_not_known;
        for (d = 0; d < v->rank; ++d)
            if (d != axis && !ft__onnx_equal(from->size[d], v->size[d]))
                return "its inputs have different shapes";
        y.size[axis].k += from->size[axis].k;
        inputs[i] = from->made;
    }
    if (!inputs) return NULL;
    own = ft__onnx_own_axis(v, axis);
    ft__onnx_add_int(&fields, "axis", own);
    made = ft__onnx_make(x, "concat", ft__onnx_name_of(x, n), inputs, n->input_count, &fields);
    return ft__onnx_is_made(x, n, 0, made, &y);
}

/* The batch and a length are not repeated. */
static const char *ft__onnx_tile(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    double numbers[FT__ONNX_RANK];
    int times[FT__ONNX_RANK], d;
    if (!v) return ft__onnx_needs_node;
    if (ft__onnx_wholes(x, ft__onnx_input(x, n, 1), numbers, FT__ONNX_RANK) != v->rank)
        return "its repeats are not constant";
    for (d = 0; d < v->rank; ++d) {
        if (!(numbers[d] >= 1 && numbers[d] <= 1 << 24)
            || (numbers[d] > 1 && (d == v->batch || !ft__onnx_is_known(v->size[d]))))
            return "only axes of known size can be repeated";
        times[d] = (int)numbers[d];
    }
    y = *v;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_tile(x, ft__onnx_name_of(x, n), v->made, &y,
                                                        times), &y);
}

/* Broadcasting to a shape: axes of 1 are repeated. */
static const char *ft__onnx_expand(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *in = ft__onnx_node_in(x, n, 0), v, shape, to;
    const char *fault = NULL;
    int d, made;
    if (!in) return ft__onnx_needs_node;
    if (!ft__onnx_shape_from(x, ft__onnx_input(x, n, 1), &shape)) return ft__onnx_not_known;
    v = *in;
    if (shape.rank > v.rank)
        fault = ft__onnx_promote(x, &v, shape.rank,
                                 ft__onnx_name(x, ft__onnx_name_of(x, n), ".in"));
    to = v;
    for (d = 0; d < shape.rank && !fault; ++d) {
        ft__onnx_number has = v.size[v.rank - shape.rank + d], wants = shape.size[d];
        if (ft__onnx_is(wants, 1) || ft__onnx_equal(wants, has)) continue;
        to.size[v.rank - shape.rank + d] = wants;
        if (!ft__onnx_is(has, 1)) fault = "to that shape is not supported";
    }
    if (fault) return fault;
    made = ft__onnx_make_stretched(x, ft__onnx_name_of(x, n), v.made, &v, &to);
    return made < 0 ? "to that shape is not supported" : ft__onnx_is_made(x, n, 0, made, &v);
}

/* The places of the largest or smallest numbers along an axis, as integers; `drop`: without that
   axis. */
static int ft__onnx_make_places(ft__onnx *x, const char *name, const ft__onnx_value *v, int axis,
                                int count, bool smallest, bool drop)
{
    ft__text fields = ft__onnx_fields(x);
    ft__onnx_add_int(&fields, "count", count);
    ft__onnx_add_int(&fields, "axis", ft__onnx_own_axis(v, axis));
    ft__onnx_add_flag(&fields, "smallest", smallest);
    ft__onnx_add_flag(&fields, "drop_axis", drop);
    return ft__onnx_make_one(x, "topk", name, v->made, &fields);
}

/* ArgMax and ArgMin: places as floats, as all numbers of our network. */
static const char *ft__onnx_place(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    bool keep = ft__onnx_int(n, "keepdims", 1) != 0;
    const char *name = ft__onnx_name_of(x, n);
    int axis, made, d;
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank);
    if (axis < 0) return "has no such axis";
    if (axis == v->batch) return "over the batch is not supported";
    if (ft__onnx_int(n, "select_last_index", 0)) return "select_last_index is not supported";
    made = ft__onnx_make_places(x, ft__onnx_name(x, name, ".place"), v, axis, 1,
                                strcmp(n->op, "ArgMin") == 0, !keep);
    y = *v;
    y.type = FT__ONNX_I64;
    y.size[axis] = ft__onnx_known(1);
    for (d = axis; d + 1 < v->rank && !keep; ++d) y.size[d] = v->size[d + 1];
    y.rank -= !keep;
    y.batch -= !keep && axis < v->batch;
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "to_f32", name, made, NULL), &y);
}

static const char *ft__onnx_topk(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *places = ft__onnx_output(x, n, 1), y;
    double count = (double)ft__onnx_int(n, "k", 1);
    const char *name = ft__onnx_name_of(x, n), *fault;
    int axis, made;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", -1), v->rank);
    if (axis < 0 || axis == v->batch) return "over the batch is not supported";
    if (n->input_count > 1 && ft__onnx_wholes(x, ft__onnx_input(x, n, 1), &count, 1) != 1)
        return "its K is not constant";
    if (!(count >= 1) || count > floor(count) || (count > 1 && !(count <= v->size[axis].k))
        || (count > 1 && !ft__onnx_is_known(v->size[axis]))) return "its K is not in its axis";
    made = ft__onnx_make_places(x, ft__onnx_name(x, name, ".places"), v, axis, (int)count,
                                ft__onnx_int(n, "largest", 1) == 0, false);
    y = *v;
    y.size[axis] = ft__onnx_known(count);
    ft__onnx_add_int(&fields, "axis", ft__onnx_own_axis(v, axis));
    fault = ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "gather", name, v->made, made, &fields),
                             &y);
    if (fault || !places) return fault;
    y.type = FT__ONNX_I64;
    return ft__onnx_is_made(x, n, 1, ft__onnx_make_one(x, "to_f32", places->name, made, NULL), &y);
}

/* GatherElements by the places of a TopK or ArgMax along the same axis, or by ids that are fed. */
static const char *ft__onnx_gather_elements(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *index = ft__onnx_node_in(x, n, 1), y;
    int axis, d, places;
    ft__text fields = ft__onnx_fields(x);
    if (!v || !index) return "is supported with indices that are computed, of what is computed";
    axis = ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank);
    if (axis < 0 || axis == v->batch || index->batch != v->batch || index->rank != v->rank)
        return "over the batch is not supported";
    y = *v;
    y.size[axis] = index->size[axis];
    for (d = 0; d < v->rank; ++d)
        if (!ft__onnx_equal(index->size[d], y.size[d]))
            return "its index must have the input's sizes along the other axes";
    places = ft__onnx_make_indices(x, ft__onnx_name_of(x, n), index->made);
    ft__onnx_add_int(&fields, "axis", ft__onnx_own_axis(v, axis));
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_two(x, "gather", ft__onnx_name_of(x, n),
                                                       v->made, places, &fields), &y);
}

static const char *ft__onnx_cumsum(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0);
    double axis;
    int at;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    if (ft__onnx_wholes(x, ft__onnx_input(x, n, 1), &axis, 1) != 1)
        return "its axis is not constant";
    at = ft__onnx_axis(axis, v->rank);
    if (at < 0 || at == v->batch) return "over the batch is not supported";
    ft__onnx_add_int(&fields, "axis", ft__onnx_own_axis(v, at));
    ft__onnx_add_flag(&fields, "exclusive", ft__onnx_int(n, "exclusive", 0) != 0);
    ft__onnx_add_flag(&fields, "reverse", ft__onnx_int(n, "reverse", 0) != 0);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "cumsum", ft__onnx_name_of(x, n), v->made,
                                                       &fields), v);
}

static const char *ft__onnx_pad(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), *fill = ft__onnx_input(x, n, 2), y;
    double pads[2 * FT__ONNX_RANK], axes[FT__ONNX_RANK], number = 0;
    int before[FT__ONNX_RANK + 1] = {0}, after[FT__ONNX_RANK + 1] = {0}, i, rank, listed;
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    ft__onnx_number own[FT__ONNX_RANK + 1];
    ft__text fields = ft__onnx_fields(x);
    int count, mode = 3;
    if (!v) return ft__onnx_needs_node;
    count = ft__onnx_list(x, n, "pads", 1, pads, 2 * FT__ONNX_RANK);
    listed = ft__onnx_wholes(x, ft__onnx_input(x, n, 3), axes, FT__ONNX_RANK);
    if (count < 0 || count != 2 * (listed < 0 ? v->rank : listed)) return ft__onnx_not_known;
    if (fill && !ft__onnx_is_number(x, fill, &number)) return "its value is not a constant";
    if (ft__onnx_attribute_of(n, "value")) number = (double)ft__onnx_float(n, "value", 0);
    while (mode >= 0 && strcmp(modes[mode], ft__onnx_text(n, "mode", "constant")) != 0) --mode;
    if (mode < 0) return "its mode is not known";
    y = *v;
    for (i = 0; i < count / 2; ++i) {
        int axis = listed < 0 ? i : ft__onnx_axis(axes[i], v->rank), at;
        double left = pads[i], right = pads[count / 2 + i];
        if (axis < 0 || fabs(left) > 1 << 24 || fabs(right) > 1 << 24) return "has no such axis";
        if (!(left < 0 || left > 0 || right < 0 || right > 0)) continue;
        if (left < 0 || right < 0) return "that takes numbers away is not supported";
        if (axis == v->batch || !ft__onnx_is_known(v->size[axis])) return ft__onnx_not_known;
        at = ft__onnx_own_axis(v, axis);
        before[at] = (int)left;
        after[at] = (int)right;
        y.size[axis].k += left + right;
    }
    rank = ft__onnx_own(v, own);
    ft__json_add_ints(&fields, "before", before, rank);
    ft__json_add_ints(&fields, "after", after, rank);
    ft__onnx_add_int(&fields, "mode", mode);
    if (mode == 0) ft__onnx_add_number(&fields, "value", number);
    return ft__onnx_is_made(x, n, 0, ft__onnx_make_one(x, "pad", ft__onnx_name_of(x, n), v->made,
                                                       &fields), &y);
}

/* ---- Reductions ---- */

static const char *ft__onnx_reduce(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_node_in(x, n, 0), y;
    int own[FT__ONNX_RANK], count = 0, i, d, made;
    unsigned gone;
    /* and what is applied before and after */
    static const char *const ops[][4] = {{"ReduceMean", "mean", NULL, NULL},
        {"ReduceSum", "sum", NULL, NULL}, {"ReduceMax", "amax", NULL, NULL},
        {"ReduceMin", "amin", NULL, NULL}, {"ReduceProd", "prod", NULL, NULL},
        {"ReduceL2", "norm", NULL, NULL}, {"ReduceLogSumExp", "logsumexp", NULL, NULL},
        {"ReduceL1", "sum", "abs", NULL}, {"ReduceLogSum", "sum", NULL, "log"},
        {"ReduceSumSquare", "sum", "mul", NULL}};
    bool keep = ft__onnx_int(n, "keepdims", 1) != 0;
    const char *op, *name = ft__onnx_name_of(x, n), *before, *after;
    ft__text fields = ft__onnx_fields(x);
    if (!v) return ft__onnx_needs_node;
    for (i = 0; strcmp(ops[i][0], n->op) != 0;) ++i;
    op = ops[i][1];
    before = ops[i][2];
    after = ops[i][3];
    y = *v;
    if (!ft__onnx_reduced(x, n, v, &gone, &y)) return "its axes are not known";
    if (gone >> v->batch & 1) return "over the batch is not supported";
    for (d = 0; d < v->rank; ++d) {
        if (d < v->batch && gone >> d & 1 && !keep) y.batch -= 1;
        if (gone >> d & 1) own[count++] = ft__onnx_own_axis(v, d);
    }
    made = v->made;
    if (before)
        made = before[0] == 'm'
            ? ft__onnx_make_two(x, "mul", ft__onnx_name(x, name, ".square"), made, made, NULL)
            : ft__onnx_make_one(x, before, ft__onnx_name(x, name, ".in"), made, NULL);
    if (after) name = ft__onnx_name(x, name, ".sum");
    if (!gone) {
        if (before || after) return "of no axes is not supported";
        return ft__onnx_is_made(x, n, 0, made, v);
    }
    if (count > FINETUNE_MAX_RANK) return "over so many axes is not supported";
    ft__onnx_add_reduction(&fields, own, count, keep);
    if (count == 2 && keep && ft__onnx_is_picture(v) && gone == 12
        && (strcmp(op, "mean") == 0 || strcmp(op, "amax") == 0)) {
        ft__release(x->file->context, fields.letters);
        made = ft__onnx_make_one(x, op[0] == 'm' ? "global_avg_pool" : "global_max_pool", name,
                                 made, NULL);
    } else made = ft__onnx_make_one(x, op, name, made, &fields);
    if (after) made = ft__onnx_make_one(x, after, ft__onnx_name_of(x, n), made, NULL);
    return ft__onnx_is_made(x, n, 0, made, &y);
}
#endif
