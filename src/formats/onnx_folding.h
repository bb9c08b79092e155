#pragma once
#include "platform/families.h"
#include "formats/readers.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_quantised.h"

/* =============================================================================================
   [SECTION] formats/onnx_folding: ONNX operators that are computed while a file is read
   Those that move numbers, which are constants or sizes; and the table of all that are computed.
   ============================================================================================= */
#if FT__HAS_ONNX
enum { FT__ONNX_PARTS = 64 }; /* outputs of a Split */

/* The shape that input 1 lists, with 0 as in `from` and -1 as the rest; y gets it. False: it is not
   known. */
static bool ft__onnx_new_shape(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *from,
                               ft__onnx_value *y)
{
    ft__onnx_value *list = ft__onnx_input(x, n, 1);
    ft__onnx_number rest = ft__onnx_product(from, 0, from->rank);
    bool zero = ft__onnx_int(n, "allowzero", 0) != 0;
    int unknown = -1, d;
    int64_t count = list ? ft__onnx_count(list) : -1;
    if (count < 0 || count > FT__ONNX_RANK || !ft__onnx_numbers(x, list)) return false;
    y->rank = (int)count;
    for (d = 0; d < y->rank; ++d) {
        y->size[d] = ft__onnx_at(list, d);
        if (ft__onnx_is(y->size[d], 0) && !zero && d < from->rank) y->size[d] = from->size[d];
        if (ft__onnx_is(y->size[d], -1) && unknown < 0) unknown = d;
        else rest = ft__onnx_over(rest, y->size[d]);
    }
    if (unknown >= 0) y->size[unknown] = rest;
    for (d = 0; d < y->rank; ++d)
        if (!(y->size[d].k >= 0) || y->size[d].k > INT_MAX || y->size[d].k > floor(y->size[d].k))
            return false;
    return unknown >= 0 || ft__onnx_is(rest, 1);
}

/* The shapes after Squeeze, Unsqueeze and Flatten. */
static bool ft__onnx_squeezed(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                              ft__onnx_value *y)
{
    double axes[FT__ONNX_RANK];
    int count = ft__onnx_list(x, n, "axes", 1, axes, FT__ONNX_RANK), i, d;
    unsigned gone = 0;
    y->rank = 0;
    for (i = 0; i < count; ++i) {
        int axis = ft__onnx_axis(axes[i], v->rank);
        if (axis < 0 || !ft__onnx_is(v->size[axis], 1)) return false;
        gone |= 1u << axis;
    }
    for (d = 0; d < v->rank; ++d)
        if (!(gone >> d & 1) && !(count < 0 && ft__onnx_is(v->size[d], 1)))
            y->size[y->rank++] = v->size[d];
    return true;
}

static bool ft__onnx_unsqueezed(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                                ft__onnx_value *y)
{
    double axes[FT__ONNX_RANK];
    int count = ft__onnx_list(x, n, "axes", 1, axes, FT__ONNX_RANK), i, d, from = 0;
    unsigned added = 0;
    if (count < 0 || v->rank + count > FT__ONNX_RANK) return false;
    for (i = 0; i < count; ++i) {
        int axis = ft__onnx_axis(axes[i], v->rank + count);
        if (axis < 0 || added >> axis & 1) return false;
        added |= 1u << axis;
    }
    y->rank = v->rank + count;
    for (d = 0; d < y->rank; ++d)
        y->size[d] = added >> d & 1 ? ft__onnx_known(1) : v->size[from++];
    return true;
}

static bool ft__onnx_flattened(const ft__onnx_node *n, const ft__onnx_value *v, ft__onnx_value *y)
{
    int64_t axis = ft__onnx_int(n, "axis", 1);
    if (axis < 0) axis += v->rank;
    if (axis < 0 || axis > v->rank) return false;
    y->rank = 2;
    y->size[0] = ft__onnx_product(v, 0, (int)axis);
    y->size[1] = ft__onnx_product(v, (int)axis, v->rank);
    return true;
}

/* The shape after those that keep the numbers in their order; false: it is not known, or the node
   is another operator. */
static bool ft__onnx_reshaped(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                              ft__onnx_value *y)
{
    ft__onnx_value shape;
    bool known;
    memset(&shape, 0, sizeof shape);
    if (strcmp(n->op, "Reshape") == 0) known = ft__onnx_new_shape(x, n, v, &shape);
    else if (strcmp(n->op, "Squeeze") == 0) known = ft__onnx_squeezed(x, n, v, &shape);
    else if (strcmp(n->op, "Unsqueeze") == 0) known = ft__onnx_unsqueezed(x, n, v, &shape);
    else known = strcmp(n->op, "Flatten") == 0 && ft__onnx_flattened(n, v, &shape);
    if (!known) return false;
    ft__onnx_set_shape(y, &shape);
    return true;
}

/* A constant that counts, with axes of 1 more or less. */
static bool ft__onnx_fold_counted_view(ft__onnx *x, const ft__onnx_value *v, ft__onnx_value *y,
                                       const ft__onnx_value *shape)
{
    ft__onnx_number *steps = (ft__onnx_number *)ft__file_memory(x->file, ((size_t)shape->rank + 1)
                                                                             * sizeof *steps);
    int d, from = 0;
    for (d = 0; steps && d < shape->rank; ++d) {
        if (ft__onnx_is(shape->size[d], 1)) continue;
        while (from < v->rank && ft__onnx_is(v->size[from], 1)) ++from;
        if (from == v->rank || !ft__onnx_equal(v->size[from], shape->size[d])) return false;
        steps[d] = v->steps[from++];
    }
    while (from < v->rank && ft__onnx_is(v->size[from], 1)) ++from;
    if (!steps || from < v->rank || !ft__onnx_fold_view(y, v, shape)) return false;
    y->steps = steps;
    return true;
}

static bool ft__onnx_fold_reshape(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    if (!v || !y || !ft__onnx_reshaped(x, n, v, &shape)) return false;
    return v->steps ? ft__onnx_fold_counted_view(x, v, y, &shape)
                    : ft__onnx_fold_view(y, v, &shape);
}

static bool ft__onnx_fold_identity(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0);
    return v && y && ft__onnx_fold_view(y, v, v);
}

/* Shape and Size, of any value whose shape is known. */
static bool ft__onnx_fold_shape(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    bool all = strcmp(n->op, "Size") == 0;
    int64_t start = ft__onnx_int(n, "start", 0), end, d;
    if (!v || !y || v->kind == FT__ONNX_UNKNOWN) return false;
    end = ft__onnx_int(n, "end", v->rank);
    start += start < 0 ? v->rank : 0;
    end += end < 0 ? v->rank : 0;
    start = start < 0 ? 0 : start;
    end = end > v->rank ? v->rank : end;
    memset(&shape, 0, sizeof shape);
    shape.rank = !all;
    shape.size[0] = ft__onnx_known((double)(end > start ? end - start : 0));
    if (!ft__onnx_fold_to(x, y, &shape, FT__ONNX_I64, false)) return false;
    if (all) y->numbers[0] = ft__onnx_product(v, 0, v->rank);
    else for (d = start; d < end; ++d) y->numbers[d - start] = v->size[d];
    return true;
}

/* The product of known sizes [from, to) as a count. */
static int64_t ft__onnx_extent(const ft__onnx_value *v, int from, int to)
{
    return (int64_t)ft__onnx_product(v, from, to).k;
}

static bool ft__onnx_fold_gather(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *index = ft__onnx_input(x, n, 1), shape;
    ft__onnx_value *y = ft__onnx_output(x, n, 0);
    int axis = v ? ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank) : -1, d;
    int64_t before, after, size, places, i, k, j;
    if (!v || !index || !y || axis < 0 || v->rank - 1 + index->rank > FT__ONNX_RANK
        || ft__onnx_count(index) < 0 || ft__onnx_count(v) < 0 || !ft__onnx_numbers(x, index)
        || !ft__onnx_numbers(x, v)) return false;
    memset(&shape, 0, sizeof shape);
    for (d = 0; d < axis; ++d) shape.size[shape.rank++] = v->size[d];
    for (d = 0; d < index->rank; ++d) shape.size[shape.rank++] = index->size[d];
    for (d = axis + 1; d < v->rank; ++d) shape.size[shape.rank++] = v->size[d];
    places = ft__onnx_count(index);
    if (places < 0 || !ft__onnx_fold_to(x, y, &shape, v->type, false)) return false;
    if (ft__onnx_count(y) == 0) return true;
    before = ft__onnx_extent(v, 0, axis);
    size = (int64_t)v->size[axis].k;
    after = ft__onnx_extent(v, axis + 1, v->rank);
    for (i = 0; i < before; ++i)
        for (k = 0; k < places; ++k) {
            double at = ft__onnx_at(index, k).k;
            if (at < 0) at += (double)size;
            if (!(at >= 0 && at < (double)size) || !ft__onnx_is_known(ft__onnx_at(index, k)))
                return false;
            for (j = 0; j < after; ++j)
                y->numbers[(i * places + k) * after + j]
                    = ft__onnx_at(v, (i * size + (int64_t)at) * after + j);
        }
    return true;
}

/* Where a Slice starts, ends and how it steps, for each dimension. `open`: the size is not known,
   and all of it is taken. With a step below 0 the end is before the start, -1 at least. */
typedef struct ft__onnx_cut {
    double start[FT__ONNX_RANK], stop[FT__ONNX_RANK], step[FT__ONNX_RANK];
    bool open[FT__ONNX_RANK];
} ft__onnx_cut;

/* All of v. */
static void ft__onnx_whole(const ft__onnx_value *v, ft__onnx_cut *cut)
{
    int d;
    for (d = 0; d < v->rank; ++d) {
        cut->start[d] = 0;
        cut->step[d] = 1;
        cut->open[d] = !ft__onnx_is_known(v->size[d]);
        cut->stop[d] = v->size[d].k;
    }
}

/* Cuts along an axis of known size, by indices that count from the end if they are negative. */
static bool ft__onnx_cut_axis(ft__onnx_cut *cut, int d, double from, double to, double step)
{
    double size = cut->stop[d], first = step < 0 ? -1 : 0, last = step < 0 ? size - 1 : size;
    if (!(step >= 1) && !(step <= -1)) return false;
    from += from < 0 ? size : 0;
    to += to < 0 ? size : 0;
    cut->step[d] = step;
    cut->start[d] = from < 0 ? 0 : from > last ? last : from;
    cut->stop[d] = to < first ? first : to > size ? size : to;
    if ((cut->stop[d] - cut->start[d]) * step < 0) cut->stop[d] = cut->start[d];
    return true;
}

/* What a Slice takes of v; false: it is not known. */
static bool ft__onnx_cut_of(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                            ft__onnx_cut *cut)
{
    double starts[FT__ONNX_RANK], ends[FT__ONNX_RANK], axes[FT__ONNX_RANK], steps[FT__ONNX_RANK];
    int count = ft__onnx_list(x, n, "starts", 1, starts, FT__ONNX_RANK), i, d;
    int all = ft__onnx_list(x, n, "axes", 3, axes, FT__ONNX_RANK);
    int stepped = ft__onnx_list(x, n, "steps", 4, steps, FT__ONNX_RANK);
    ft__onnx_value *last = ft__onnx_input(x, n, 2);
    bool to_symbol = last && last->kind == FT__ONNX_CONSTANT && ft__onnx_numbers(x, last);
    if (count < 0) return false;
    if (ft__onnx_list(x, n, "ends", 2, ends, FT__ONNX_RANK) != count)
        for (i = 0; i < count; ++i) {
            if (!to_symbol || ft__onnx_count(last) != count) return false;
            ends[i] = ft__onnx_is_known(ft__onnx_at(last, i)) ? ft__onnx_at(last, i).k
                                                              : (double)NAN;
        }
    ft__onnx_whole(v, cut);
    for (i = 0; i < count; ++i) {
        double from = starts[i], to = ends[i], step = stepped < 0 ? 1 : i < stepped ? steps[i] : 0;
        d = all < 0 ? (i < v->rank ? i : -1) : i < all ? ft__onnx_axis(axes[i], v->rank) : -1;
        if (d < 0) return false;
        if (cut->open[d] || !(to - to == 0)) { /* of N or L, only all */
            if (from < 0 || from > 0 || step < 1 || step > 1
                || (to - to == 0 ? to < 1e9 : !ft__onnx_equal(ft__onnx_at(last, i),
                                                                     v->size[d]))) return false;
            continue;
        }
        if (!ft__onnx_cut_axis(cut, d, from, to, step)) return false;
    }
    return true;
}

static ft__onnx_number ft__onnx_cut_size(const ft__onnx_value *v, const ft__onnx_cut *cut, int d)
{
    if (cut->open[d]) return v->size[d];
    return ft__onnx_known(ceil((cut->stop[d] - cut->start[d]) / cut->step[d]));
}

/* y's index i along dimension d is v's start + step * i along dimension axes[d]. */
static void ft__onnx_pick(const ft__onnx_value *v, const ft__onnx_value *y, const int *axes,
                          const ft__onnx_cut *cut)
{
    int64_t step[FT__ONNX_RANK], count = ft__onnx_count(y), i;
    int d;
    if (y->same) {
        y->numbers[0] = v->numbers[0];
        return;
    }
    for (d = v->rank - 1; d >= 0; --d)
        step[d] = d == v->rank - 1 ? 1 : step[d + 1] * (int64_t)v->size[d + 1].k;
    for (i = 0; i < count; ++i) {
        int64_t rest = i, at = 0;
        for (d = y->rank - 1; d >= 0; --d) {
            int64_t size = (int64_t)y->size[d].k, k = rest % size;
            int axis = axes ? axes[d] : d;
            rest /= size;
            at += (cut ? (int64_t)(cut->start[d] + cut->step[d] * (double)k) : k) * step[axis];
        }
        y->numbers[i] = ft__onnx_at(v, at);
    }
}

/* The first L numbers of a row that is all the same, or counts: of so many token types or positions
   there are as many as steps. */
static bool ft__onnx_fold_steps(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *v,
                                ft__onnx_value *y)
{
    ft__onnx_value *end = ft__onnx_input(x, n, 2), shape;
    double start, axis, first;
    bool same = ft__onnx_is_run(x, v, 0, &first);
    int d;
    if (n->input_count < 4 || !end || end->kind != FT__ONNX_CONSTANT || ft__onnx_count(end) != 1
        || !ft__onnx_numbers(x, end) || ft__onnx_at(end, 0).l != 1 || ft__onnx_at(end, 0).n != 0
        || ft__onnx_wholes(x, ft__onnx_input(x, n, 1), &start, 1) != 1 || start < 0 || start > 0
        || ft__onnx_wholes(x, ft__onnx_input(x, n, 3), &axis, 1) != 1
        || ft__onnx_axis(axis, v->rank) != v->rank - 1) return false;
    for (d = 0; d < v->rank - 1; ++d)
        if (!ft__onnx_is(v->size[d], 1)) return false;
    if (!same && !ft__onnx_is_run(x, v, 1, &first)) return false;
    shape = *v;
    shape.size[v->rank - 1] = ft__onnx_at(end, 0);
    if (!same) {
        ft__onnx_number *to = ft__onnx_fold_steps_to(x, y, &shape, v->type, ft__onnx_known(first));
        if (to) to[v->rank - 1] = ft__onnx_known(1);
        return to != NULL;
    }
    if (!ft__onnx_fold_to(x, y, &shape, v->type, true)) return false;
    y->numbers[0] = ft__onnx_known(first);
    return true;
}

static bool ft__onnx_fold_slice(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    ft__onnx_cut cut;
    int d;
    if (v && y && ft__onnx_fold_steps(x, n, v, y)) return true;
    if (!v || !y || (!v->steps && !ft__onnx_numbers(x, v)) || !ft__onnx_cut_of(x, n, v, &cut))
        return false;
    memset(&shape, 0, sizeof shape);
    shape.rank = v->rank;
    for (d = 0; d < v->rank; ++d) shape.size[d] = ft__onnx_cut_size(v, &cut, d);
    if (v->steps) { /* all of it */
        for (d = 0; d < v->rank; ++d)
            if (!ft__onnx_equal(shape.size[d], v->size[d])) return false;
        return ft__onnx_fold_view(y, v, v);
    }
    if (!ft__onnx_fold_to(x, y, &shape, v->type, v->same)) return false;
    ft__onnx_pick(v, y, NULL, &cut);
    return true;
}

/* Where the outputs of a Split begin along `axis` and, after them, where the last ends: up to
   `most` + 1 numbers; false: not known. */
static bool ft__onnx_parts_of(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                              int axis, double *begin, int most)
{
    int count = ft__onnx_list(x, n, "split", 1, begin + 1, most), i;
    double size = ceil(v->size[axis].k / n->output_count), all = v->size[axis].k;
    if (!ft__onnx_is_known(v->size[axis]) || n->output_count > most
        || (count >= 0 && count != n->output_count)) return false;
    begin[0] = 0;
    for (i = 1; i <= n->output_count; ++i) {
        begin[i] = begin[i - 1] + (count < 0 ? size : begin[i]);
        if (!(begin[i] >= begin[i - 1]) || begin[i] > floor(begin[i])) return false;
        if (count < 0 && begin[i] > all) begin[i] = all;
    }
    return !(begin[n->output_count] < all) && !(begin[n->output_count] > all);
}

static bool ft__onnx_fold_split(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), shape;
    double begin[FT__ONNX_PARTS + 1];
    int axis = v ? ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), v->rank) : -1, i;
    if (axis < 0 || !ft__onnx_numbers(x, v)
        || !ft__onnx_parts_of(x, n, v, axis, begin, FT__ONNX_PARTS)) return false;
    for (i = 0; i < n->output_count; ++i) {
        ft__onnx_value *y = ft__onnx_output(x, n, i);
        ft__onnx_cut cut;
        if (!y) continue;
        ft__onnx_whole(v, &cut);
        cut.start[axis] = begin[i];
        shape = *v;
        shape.size[axis] = ft__onnx_known(begin[i + 1] - begin[i]);
        if (!ft__onnx_fold_to(x, y, &shape, v->type, v->same)) return false;
        ft__onnx_pick(v, y, NULL, &cut);
    }
    return true;
}

/* Makes y a constant of this shape, of numbers that are repeated along its axes; `same`: all are
   one number. */
static bool ft__onnx_fold_repeats(ft__onnx *x, ft__onnx_value *y, const ft__onnx_value *v,
                                  const ft__onnx_value *shape, bool same)
{
    int64_t i;
    if (!ft__onnx_fold_to(x, y, shape, v->type, same)) return false;
    for (i = ft__onnx_held(y) - 1; i >= 0; --i) y->numbers[i] = ft__onnx_across(v, y, i);
    return true;
}

static bool ft__onnx_fold_tile(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    double times[FT__ONNX_RANK];
    int d;
    if (!v || !y || !ft__onnx_numbers(x, v)
        || ft__onnx_wholes(x, ft__onnx_input(x, n, 1), times, FT__ONNX_RANK) != v->rank)
        return false;
    shape = *v;
    for (d = 0; d < v->rank; ++d) {
        if (!(times[d] >= 1)) return false;
        shape.size[d].k *= times[d];
    }
    return ft__onnx_fold_repeats(x, y, v, &shape, v->same);
}

/* The axes that a reduction takes away, as bits, and the shape that is left; false: not known. */
static bool ft__onnx_reduced(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_value *v,
                             unsigned *gone, ft__onnx_value *y)
{
    double axes[FT__ONNX_RANK];
    int count = ft__onnx_list(x, n, "axes", 1, axes, FT__ONNX_RANK), i, d;
    bool given = ft__onnx_attribute_of(n, "axes") || ft__onnx_input(x, n, 1);
    bool all = count == 0 || !given;
    if (count < 0 && given) return false;
    if (all && ft__onnx_int(n, "noop_with_empty_axes", 0)) all = false;
    *gone = all ? (1u << v->rank) - 1 : 0;
    for (i = 0; i < count; ++i) {
        int axis = ft__onnx_axis(axes[i], v->rank);
        if (axis < 0) return false;
        *gone |= 1u << axis;
    }
    for (d = 0, y->rank = 0; d < v->rank; ++d)
        if (!(*gone >> d & 1)) y->size[y->rank++] = v->size[d];
        else if (ft__onnx_int(n, "keepdims", 1)) y->size[y->rank++] = ft__onnx_known(1);
    return true;
}

/* A reduction: what is done to each number, how two are joined (a letter of ft__onnx_compute), and
   what is done to the result: '.' nothing, 'a' |k|, '2' k k, 'e' exp, 's' sqrt, 'n' log, 'm' the
   mean. */
static const struct { const char *op; char before, join, after; } ft__onnx_reductions[] = {
    {"ReduceSum", '.', '+', '.'}, {"ReduceProd", '.', '*', '.'}, {"ReduceMax", '.', 'M', '.'},
    {"ReduceMin", '.', 'm', '.'}, {"ReduceMean", '.', '+', 'm'}, {"ReduceL1", 'a', '+', '.'},
    {"ReduceL2", '2', '+', 's'}, {"ReduceLogSum", '.', '+', 'n'},
    {"ReduceLogSumExp", 'e', '+', 'n'}, {"ReduceSumSquare", '2', '+', '.'}};

static ft__onnx_number ft__onnx_reduced_number(char how, ft__onnx_number a, double count)
{
    if (how == '.') return a;
    if (how == '2') return ft__onnx_times(a, a);
    if (how == 'm') a.k /= count;
    else if (!ft__onnx_is_known(a)) a.k = (double)NAN;
    else if (how == 'a') a.k = fabs(a.k);
    else if (how == 'e') a.k = exp(a.k);
    else a.k = how == 's' ? sqrt(a.k) : log(a.k);
    return a;
}

/* Reductions, such as the product of the sizes of a shape. */
static bool ft__onnx_fold_reduce(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    unsigned gone;
    int64_t i, count, results;
    int d, how = 0;
    while (strcmp(ft__onnx_reductions[how].op, n->op) != 0) ++how;
    memset(&shape, 0, sizeof shape);
    if (!v || !y || !ft__onnx_numbers(x, v) || !ft__onnx_reduced(x, n, v, &gone, &shape)
        || (count = ft__onnx_count(v)) < 1 || !ft__onnx_fold_to(x, y, &shape, v->type, false))
        return false;
    results = ft__onnx_count(y);
    for (i = 0; i < count; ++i) {
        int64_t rest = i, at = 0, step = 1, first = 0;
        ft__onnx_number a = ft__onnx_reduced_number(ft__onnx_reductions[how].before,
                                                    ft__onnx_at(v, i), 1);
        for (d = v->rank - 1; d >= 0; --d) {
            int64_t size = (int64_t)v->size[d].k, k = rest % size;
            rest /= size;
            if (gone >> d & 1) first |= k;
            else at += k * step;
            if (!(gone >> d & 1)) step *= size;
        }
        y->numbers[at] = first == 0 ? a
            : ft__onnx_compute(ft__onnx_reductions[how].join, y->numbers[at], a, false);
    }
    for (i = 0; i < results; ++i)
        y->numbers[i] = ft__onnx_of_type(ft__onnx_reduced_number(
            ft__onnx_reductions[how].after, y->numbers[i], (double)count / (double)results),
                                         v->type);
    return true;
}

static bool ft__onnx_fold_cumsum(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    double number;
    bool reverse = ft__onnx_int(n, "reverse", 0) != 0;
    bool exclusive = ft__onnx_int(n, "exclusive", 0) != 0;
    int axis = v && ft__onnx_wholes(x, ft__onnx_input(x, n, 1), &number, 1) == 1
        ? ft__onnx_axis(number, v->rank) : -1;
    int64_t count = v ? ft__onnx_count(v) : -1, after, size, i;
    if (axis < 0 || !y || count < 1 || !ft__onnx_numbers(x, v)) return false;
    shape = *v;
    if (!ft__onnx_fold_to(x, y, &shape, v->type, false)) return false;
    after = ft__onnx_extent(v, axis + 1, v->rank);
    size = (int64_t)v->size[axis].k;
    for (i = 0; i < count; ++i) {
        int64_t at = reverse ? count - 1 - i : i, place = at / after % size;
        bool first = place == (reverse ? size - 1 : 0);
        int64_t before = reverse ? at + after : at - after;
        ft__onnx_number own = ft__onnx_at(v, exclusive && !first ? before : at);
        if (first) y->numbers[at] = exclusive ? ft__onnx_known(0) : own;
        else y->numbers[at] = ft__onnx_compute('+', y->numbers[before], own, false);
    }
    return true;
}

/* The axes of a Transpose; false: they are no permutation. */
static bool ft__onnx_turn(const ft__onnx_node *n, int rank, int *axes)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, "perm");
    unsigned seen = 0;
    int d;
    if (a && a->count != rank) return false;
    for (d = 0; d < rank; ++d) {
        int64_t axis = a ? a->wholes[d] : rank - 1 - d;
        if (axis < 0 || axis >= rank || seen >> axis & 1) return false;
        seen |= 1u << axis;
        axes[d] = (int)axis;
    }
    return true;
}

static bool ft__onnx_fold_transpose(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    int axes[FT__ONNX_RANK], d;
    if (!v || !y || !ft__onnx_turn(n, v->rank, axes)) return false;
    memset(&shape, 0, sizeof shape);
    shape.rank = v->rank;
    for (d = 0; d < v->rank; ++d) shape.size[d] = v->size[axes[d]];
    if (v->tensor >= 0 && v->rank == 2 && axes[0] == 1 && x->tensors[v->tensor].rank == 2) {
        ft__onnx_fold_view(y, v, &shape); /* stays that weight */
        y->turned = !v->turned;
        y->numbers = NULL;
        return true;
    }
    if (!ft__onnx_numbers(x, v) || !ft__onnx_fold_to(x, y, &shape, v->type, v->same)) return false;
    ft__onnx_pick(v, y, axes, NULL);
    return true;
}

static bool ft__onnx_fold_concat(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), *first = ft__onnx_input(x, n, 0), shape;
    int axis = first ? ft__onnx_axis((double)ft__onnx_int(n, "axis", 0), first->rank) : -1, i, d;
    int64_t to = 0, before, after, row, part, k;
    bool counts = false;
    if (axis < 0 || !y) return false;
    memset(&shape, 0, sizeof shape);
    ft__onnx_set_shape(&shape, first);
    shape.size[axis] = ft__onnx_known(0);
    for (i = 0; i < n->input_count; ++i) {
        ft__onnx_value *v = ft__onnx_input(x, n, i);
        if (!v || v->rank != first->rank || !ft__onnx_is_known(v->size[axis])
            || (!v->steps && (!ft__onnx_numbers(x, v) || ft__onnx_count(v) < 0))) return false;
        counts = counts || v->steps;
        for (d = 0; d < v->rank; ++d)
            if (d != axis && !ft__onnx_equal(v->size[d], first->size[d])) return false;
        shape.size[axis].k += v->size[axis].k;
    }
    if (counts) return ft__onnx_fold_to_shape(y, &shape); /* indices: GatherND reads their parts */
    if (!ft__onnx_fold_to(x, y, &shape, first->type, false)) return false;
    if (ft__onnx_count(y) == 0) return true;
    before = ft__onnx_extent(y, 0, axis);
    after = ft__onnx_extent(y, axis + 1, y->rank);
    for (row = 0; row < before; ++row)
        for (i = 0; i < n->input_count; ++i) {
            const ft__onnx_value *v = ft__onnx_input(x, n, i);
            part = (int64_t)v->size[axis].k * after;
            for (k = 0; k < part; ++k) y->numbers[to++] = ft__onnx_at(v, row * part + k);
        }
    return true;
}

/* The sizes that a constant lists become y's shape; false: they are not known. */
static bool ft__onnx_shape_from(ft__onnx *x, ft__onnx_value *list, ft__onnx_value *shape)
{
    int64_t count = list ? ft__onnx_count(list) : -1;
    int d;
    memset(shape, 0, sizeof *shape);
    if (count < 0 || count > FT__ONNX_RANK || !ft__onnx_numbers(x, list)) return false;
    shape->rank = (int)count;
    for (d = 0; d < shape->rank; ++d) {
        shape->size[d] = ft__onnx_at(list, d);
        if (!(shape->size[d].k >= 0 && shape->size[d].k <= INT_MAX)) return false;
    }
    return true;
}

static bool ft__onnx_fold_fill(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), shape;
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, "value");
    const ft__onnx_tensor *t = a && a->tensor >= 0 ? &x->tensors[a->tensor] : NULL;
    if (!y || !ft__onnx_shape_from(x, ft__onnx_input(x, n, 0), &shape)
        || (t && (t->count != 1 || !t->data))) return false;
    if (!ft__onnx_fold_to(x, y, &shape, t ? t->type : FT__ONNX_F32, true)) return false;
    y->numbers[0] = ft__onnx_known(t ? ft__onnx_decode(t->data, t->type) : 0);
    return true;
}

/* Whether the shape is v's with N instead of a first 1. */
static bool ft__onnx_repeats(const ft__onnx_value *v, const ft__onnx_value *shape)
{
    int d;
    if (v->rank != shape->rank || v->rank < 2 || shape->size[0].n != 1) return false;
    for (d = 1; d < v->rank; ++d)
        if (!ft__onnx_equal(v->size[d], shape->size[d])) return false;
    return true;
}

/* Expand: broadcast to a shape. */
static bool ft__onnx_fold_expand(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0), shape;
    int d, skip;
    double number;
    if (!v || !y || (!v->steps && !ft__onnx_numbers(x, v))
        || !ft__onnx_shape_from(x, ft__onnx_input(x, n, 1), &shape) || v->rank > shape.rank)
        return false;
    for (d = 0, skip = shape.rank - v->rank; d < v->rank; ++d)
        if (ft__onnx_is(shape.size[skip + d], 1)) shape.size[skip + d] = v->size[d];
        else if (!ft__onnx_is(v->size[d], 1) && !ft__onnx_equal(v->size[d], shape.size[skip + d]))
            return false;
    if (v->steps) {
        ft__onnx_number *steps = ft__onnx_fold_steps_to(x, y, &shape, v->type, v->numbers[0]);
        for (d = 0; steps && d < shape.rank; ++d) steps[d] = ft__onnx_step(v, shape.rank, d);
        return steps != NULL;
    }
    if (v->tensor >= 0 && ft__onnx_is_float(v->type) && ft__onnx_repeats(v, &shape)) {
        ft__onnx_fold_view(y, v, &shape);
        return y->repeated = true;
    }
    return ft__onnx_fold_repeats(x, y, v, &shape, ft__onnx_is_run(x, v, 0, &number));
}

/* GatherElements of numbers that are all the same. */
static bool ft__onnx_fold_elements(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *index = ft__onnx_input(x, n, 1);
    ft__onnx_value *y = ft__onnx_output(x, n, 0);
    double number;
    if (!v || !index || !y || !ft__onnx_is_run(x, v, 0, &number)
        || !ft__onnx_fold_to(x, y, index, v->type, true)) return false;
    y->numbers[0] = ft__onnx_known(number);
    return true;
}

static bool ft__onnx_fold_range(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), shape;
    ft__onnx_value *last = ft__onnx_input(x, n, 1);
    double from, to, step, i;
    memset(&shape, 0, sizeof shape);
    shape.rank = 1;
    if (!y || !last || ft__onnx_wholes(x, ft__onnx_input(x, n, 0), &from, 1) != 1
        || ft__onnx_wholes(x, ft__onnx_input(x, n, 2), &step, 1) != 1) return false;
    if (ft__onnx_count(last) == 1 && ft__onnx_numbers(x, last)
        && ft__onnx_at(last, 0).n + ft__onnx_at(last, 0).l == 1 && ft__onnx_at(last, 0).k >= 1
        && ft__onnx_at(last, 0).k <= 1 && !(from < 0 || from > 0) && step >= 1 && step <= 1) {
        ft__onnx_number *steps; /* one for each sample, or for each step */
        shape.size[0] = ft__onnx_at(last, 0);
        steps = ft__onnx_fold_steps_to(x, y, &shape, last->type, ft__onnx_known(0));
        if (steps) steps[0] = ft__onnx_known(1);
        return steps != NULL;
    }
    if (ft__onnx_wholes(x, last, &to, 1) != 1 || !(step < 0 || step > 0)) return false;
    shape.size[0] = ft__onnx_known((to - from) / step > 0 ? ceil((to - from) / step) : 0);
    if (!ft__onnx_fold_to(x, y, &shape, ft__onnx_input(x, n, 0)->type, false)) return false;
    for (i = 0; i < shape.size[0].k; ++i) y->numbers[(size_t)i] = ft__onnx_known(from + i * step);
    return true;
}

/* A Constant whose value is an attribute of another kind than a tensor. */
static bool ft__onnx_fold_constant(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), shape;
    const ft__onnx_attribute *one = ft__onnx_attribute_of(n, "value_int");
    const ft__onnx_attribute *real = ft__onnx_attribute_of(n, "value_float");
    const ft__onnx_attribute *list = ft__onnx_attribute_of(n, "value_ints");
    int i;
    if (y && y->kind == FT__ONNX_CONSTANT) return true;
    if (!y || (!one && !real && !list)) return false;
    memset(&shape, 0, sizeof shape);
    shape.rank = list != NULL;
    shape.size[0] = ft__onnx_known(list ? list->count : 1);
    if (!ft__onnx_fold_to(x, y, &shape, real ? FT__ONNX_F32 : FT__ONNX_I64, false)) return false;
    y->numbers[0] = ft__onnx_known(real ? (double)real->number : one ? (double)one->whole : 0);
    for (i = 0; list && i < list->count; ++i)
        y->numbers[i] = ft__onnx_known((double)list->wholes[i]);
    return true;
}

/* ---- The table ---- */

typedef struct ft__onnx_folded {
    const char *op;
    bool (*move)(ft__onnx *x, const ft__onnx_node *n);
    char pair, single;      /* a letter of ft__onnx_compute or of ft__onnx_fold_single */
} ft__onnx_folded;

static const ft__onnx_folded ft__onnx_folds[] = {
    {"Constant", ft__onnx_fold_constant, 0, 0}, {"Shape", ft__onnx_fold_shape, 0, 0},
    {"Size", ft__onnx_fold_shape, 0, 0}, {"Identity", ft__onnx_fold_identity, 0, 0},
    {"Gather", ft__onnx_fold_gather, 0, 0}, {"Slice", ft__onnx_fold_slice, 0, 0},
    {"Concat", ft__onnx_fold_concat, 0, 0}, {"Reshape", ft__onnx_fold_reshape, 0, 0},
    {"Squeeze", ft__onnx_fold_reshape, 0, 0}, {"Unsqueeze", ft__onnx_fold_reshape, 0, 0},
    {"Flatten", ft__onnx_fold_reshape, 0, 0}, {"Transpose", ft__onnx_fold_transpose, 0, 0},
    {"ConstantOfShape", ft__onnx_fold_fill, 0, 0}, {"Expand", ft__onnx_fold_expand, 0, 0},
    {"Range", ft__onnx_fold_range, 0, 0}, {"GatherElements", ft__onnx_fold_elements, 0, 0},
    {"Where", ft__onnx_fold_where, 0, 0},
    {"Add", NULL, '+', 0}, {"Sub", NULL, '-', 0}, {"Mul", NULL, '*', 0}, {"Div", NULL, '/', 0},
    {"Mod", NULL, '%', 0}, {"Pow", NULL, '^', 0}, {"Equal", NULL, '=', 0}, {"Less", NULL, '<', 0},
    {"Greater", NULL, '>', 0}, {"LessOrEqual", NULL, 'l', 0}, {"GreaterOrEqual", NULL, 'g', 0},
    {"And", NULL, '&', 0}, {"Or", NULL, '|', 0}, {"Xor", NULL, 'x', 0}, {"Min", NULL, 'm', 0},
    {"DequantizeLinear", ft__onnx_fold_dequantise, 0, 0},
    {"Max", NULL, 'M', 0}, {"Sum", NULL, '+', 0}, {"Split", ft__onnx_fold_split, 0, 0},
    {"Tile", ft__onnx_fold_tile, 0, 0}, {"ReduceSum", ft__onnx_fold_reduce, 0, 0},
    {"ReduceProd", ft__onnx_fold_reduce, 0, 0}, {"ReduceMax", ft__onnx_fold_reduce, 0, 0},
    {"ReduceMin", ft__onnx_fold_reduce, 0, 0}, {"ReduceMean", ft__onnx_fold_reduce, 0, 0},
    {"ReduceL1", ft__onnx_fold_reduce, 0, 0}, {"ReduceL2", ft__onnx_fold_reduce, 0, 0},
    {"ReduceLogSum", ft__onnx_fold_reduce, 0, 0}, {"ReduceLogSumExp", ft__onnx_fold_reduce, 0, 0},
    {"ReduceSumSquare", ft__onnx_fold_reduce, 0, 0}, {"CumSum", ft__onnx_fold_cumsum, 0, 0},
    {"Cast", NULL, 0, 'c'}, {"Neg", NULL, 0, '-'}, {"Not", NULL, 0, '!'}, {"Abs", NULL, 0, 'a'},
    {"Sqrt", NULL, 0, 's'}, {"Exp", NULL, 0, 'e'}, {"Log", NULL, 0, 'n'}, {"Floor", NULL, 0, 'f'},
    {"Ceil", NULL, 0, 'u'}, {"Reciprocal", NULL, 0, 'r'}};

/* The row of an operator; NULL: it is not computed. */
static const ft__onnx_folded *ft__onnx_fold_of(const char *op)
{
    size_t i;
    for (i = 0; i < sizeof ft__onnx_folds / sizeof *ft__onnx_folds; ++i)
        if (strcmp(ft__onnx_folds[i].op, op) == 0) return &ft__onnx_folds[i];
    return NULL;
}

/* Computes a node of this row, if its inputs are constants or it asks for a shape; false: it is
   not. */
static bool ft__onnx_fold(ft__onnx *x, const ft__onnx_node *n, const ft__onnx_folded *row)
{
    int k;
    for (k = 0; row->move != ft__onnx_fold_shape && k < n->input_count; ++k)
        if (n->inputs[k] >= 0 && x->values[n->inputs[k]].kind != FT__ONNX_CONSTANT) return false;
    if (row->move) return row->move(x, n);
    return row->pair ? ft__onnx_fold_pair(x, n, row->pair)
                     : ft__onnx_fold_single(x, n, row->single);
}
#endif
