#pragma once
#include "platform/families.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "formats/readers.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_making.h"

/* =============================================================================================
   [SECTION] formats/onnx_counting: Positions in the network
   Exporters compute masks of attention from the indices of samples and steps, such as j <= i. As
   constants these count, see formats/onnx_values; where they meet numbers of the network they are
   made of one node, the positions 0, 1, 2, ... [N, L] of the first input's steps.
   ============================================================================================= */
#if FT__HAS_ONNX

/* A node [N, L] of ones; -1: the first input has no steps. */
static int ft__onnx_make_ones(ft__onnx *x)
{
    const ft__onnx_value *v = x->main_input < 0 ? NULL : &x->values[x->main_input];
    ft__onnx_value cut, flat;
    int made, d, steps = -1, stop[FT__ONNX_RANK] = {0};
    ft__text fields = ft__onnx_fields(x);
    if (!v || v->kind != FT__ONNX_NODE || v->batch != 0 || ft__onnx_is_merged(v)) return -1;
    cut = flat = *v;
    for (d = 1; d < v->rank; ++d)
        if (ft__onnx_size_is_length(v->size[d]) && steps < 0) steps = d;
        else cut.size[d] = ft__onnx_known(stop[d] = 1);
    if (steps < 0) return -1;
    made = v->made;
    if (strstr(x->made[made].fields, "I32"))
        made = ft__onnx_make_one(x, "to_f32", "steps.numbers", made, NULL);
    if (v->rank > 2) { /* one number of each step */
        ft__json_add_ints(&fields, "stop", stop, v->rank);
        made = ft__onnx_make_one(x, "slice", "steps.part", made, &fields);
        flat.rank = 2;
        flat.size[1] = v->size[steps];
        made = ft__onnx_make_shape(x, "steps.flat", made, &cut, &flat);
    }
    return ft__onnx_make_affine(x, "steps.ones", made, 0, 1);
}

/* Ones or, with `counts`, the positions of steps, with L as this axis of so many. */
static int ft__onnx_make_steps(ft__onnx *x, const char *name, bool counts, int rank, int axis)
{
    ft__onnx_value flat, shape;
    int *made = counts ? &x->positions : &x->ones, d;
    ft__text fields = ft__onnx_fields(x);
    if (!x->ones) x->ones = ft__onnx_make_ones(x) + 1;
    if (!x->ones) return -1;
    if (!*made) {
        ft__onnx_add_flag(&fields, "exclusive", true);
        *made = ft__onnx_make_one(x, "cumsum", "steps.positions", x->ones - 1, &fields) + 1;
    }
    memset(&flat, 0, sizeof flat);
    flat.rank = 2;
    shape = flat;
    shape.rank = rank;
    for (d = 0; d < rank; ++d) shape.size[d] = ft__onnx_known(1);
    shape.size[0].n = flat.size[0].n = 1;
    flat.size[0].k = flat.size[1].k = 1;
    shape.size[axis].l = flat.size[1].l = 1;
    return ft__onnx_make_shape(x, name, *made - 1, &flat, &shape);
}

/* A node whose axes are repeated so often, those of no known size once; v gets its sizes. The node
   itself if none is repeated. */
static int ft__onnx_make_tile(ft__onnx *x, const char *name, int made, ft__onnx_value *v,
                              const int *times)
{
    int repeats[FT__ONNX_RANK + 1], d;
    bool same = true;
    ft__text fields = ft__onnx_fields(x);
    for (d = 0; d <= v->rank; ++d) repeats[d] = 1;
    for (d = 0; d < v->rank; ++d) {
        repeats[ft__onnx_own_axis(v, d)] = times[d];
        v->size[d].k *= times[d];
        same = same && times[d] == 1;
    }
    if (same) return made;
    ft__json_add_ints(&fields, "repeats", repeats, v->rank + ft__onnx_is_merged(v));
    return ft__onnx_make_one(x, "tile", name, made, &fields);
}

/* A node whose axes of 1 are repeated where `to`, of as many axes, has more: a number, or L. */
static int ft__onnx_make_stretched(ft__onnx *x, const char *name, int made, ft__onnx_value *v,
                                   const ft__onnx_value *to)
{
    int times[FT__ONNX_RANK], d, ones;
    for (d = 0; d < v->rank && made >= 0; ++d) {
        times[d] = 1;
        if (d == v->batch || !ft__onnx_is(v->size[d], 1) || ft__onnx_is(to->size[d], 1)) continue;
        if (ft__onnx_size(to->size[d]) > 0) {
            times[d] = ft__onnx_size(to->size[d]);
            continue;
        }
        name = ft__onnx_name(x, name, "_");
        if (!ft__onnx_size_is_length(to->size[d]) || v->batch != 0 || ft__onnx_is_merged(v))
            return -1;
        ones = ft__onnx_make_steps(x, ft__onnx_name(x, name, ".steps"), false, v->rank, d);
        made = ft__onnx_make_two(x, "mul", name, made, ones, NULL);
        v->size[d] = to->size[d];
    }
    return made < 0 ? made : ft__onnx_make_tile(x, ft__onnx_name(x, name, "_"), made, v, times);
}

/* A new value, a node of the numbers of a constant that counts, with so many axes, the batch first;
   -1: it cannot be. */
static int ft__onnx_make_counted(ft__onnx *x, const char *name, int constant, int rank)
{
    ft__onnx_value v = x->values[constant], y;
    int d, made = -1, more = rank - v.rank, value;
    memset(&y, 0, sizeof y);
    y.rank = rank;
    y.type = FT__ONNX_F32;
    for (d = 0; d < rank; ++d) {
        ft__onnx_number step = ft__onnx_step(&v, rank, d);
        const char *part = ft__onnx_name(x, name, made < 0 ? ".steps" : ".more");
        int one;
        y.size[d] = d < more ? ft__onnx_known(1) : v.size[d - more];
        if (!ft__onnx_is_known(step) || (d == 0 && (step.k < 0 || step.k > 0))) return -1;
        if (!ft__onnx_size_is_length(y.size[d])) {
            if (step.k < 0 || step.k > 0) return -1;
            continue;
        }
        one = ft__onnx_make_steps(x, part, true, rank, d);
        if (one < 0) return -1;
        one = ft__onnx_make_affine(x, ft__onnx_name(x, part, ".value"), one, step.k,
                                   made < 0 ? v.numbers[0].k : 0);
        made = made < 0 ? one : ft__onnx_make_two(x, "add", ft__onnx_name(x, part, ".sum"), made,
                                                  one, NULL);
    }
    y.size[0] = ft__onnx_known(1);
    y.size[0].n = 1;
    value = made < 0 ? -1 : ft__onnx_add_value(x, name);
    if (value < 0) return -1;
    y.name = name;
    y.producer = y.tensor = -1;
    y.kind = FT__ONNX_NODE;
    y.made = made;
    x->values[value] = y;
    return value;
}

/* A node of ONNX whose inputs that count are nodes of our network. Returns n itself if it has none,
   or if they cannot be. */
static const ft__onnx_node *ft__onnx_with_counted(ft__onnx *x, const ft__onnx_node *n,
                                                  const char *name, ft__onnx_node *changed)
{
    static const char *const ends[] = {".counts", ".counts2", ".counts3"};
    int i, rank = 0;
    bool counts = false;
    *changed = *n;
    for (i = 0; i < n->input_count && i < 3; ++i) {
        const ft__onnx_value *v = n->inputs[i] < 0 ? NULL : &x->values[n->inputs[i]];
        if (v && v->rank > rank) rank = v->rank;
        counts = counts || (v && v->steps);
    }
    for (i = 0; counts && i < n->input_count && i < 3; ++i) { /* the first axis must be the batch */
        const ft__onnx_value *v = n->inputs[i] < 0 ? NULL : &x->values[n->inputs[i]];
        if (v && v->steps && v->rank == rank && !ft__onnx_is(v->size[0], 1)
            && v->size[0].n == 0) return n;
    }
    changed->inputs = (int *)ft__file_memory(x->file, ((size_t)n->input_count + 1) * sizeof(int));
    if (!counts || !changed->inputs) return n;
    for (i = 0; i < n->input_count; ++i) {
        changed->inputs[i] = n->inputs[i];
        if (i < 3 && n->inputs[i] >= 0 && x->values[n->inputs[i]].steps)
            changed->inputs[i] = ft__onnx_make_counted(x, ft__onnx_name(x, name, ends[i]),
                                                       n->inputs[i], rank);
        if (changed->inputs[i] < 0 && n->inputs[i] >= 0) return n;
    }
    return changed;
}

/* The axis that a constant is the index of: the batch's, or one of the steps; -1: it is another. */
static int ft__onnx_counted_axis(const ft__onnx_value *v, bool batch)
{
    int d, axis = -1;
    if (v->kind != FT__ONNX_CONSTANT || !v->steps || !ft__onnx_is(v->numbers[0], 0)) return -1;
    for (d = 0; d < v->rank; ++d) {
        if (ft__onnx_is(v->steps[d], 0)) continue;
        if (axis >= 0 || !ft__onnx_is(v->steps[d], 1)
            || !(batch ? v->size[d].n == 1 && v->size[d].l == 0
                       : ft__onnx_size_is_length(v->size[d]))) return -1;
        axis = d;
    }
    return axis;
}
#endif
