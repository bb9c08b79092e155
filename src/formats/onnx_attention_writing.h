#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/positions.h"
#include "operators/attention.h"
#include "formats/onnx_file.h"
#include "formats/onnx_writing.h"
/* =============================================================================================
   [SECTION] formats/onnx_attention_writing: Attention and positions for ONNX
   Functions as in formats/onnx_elements_writing. Opset 17 has neither attention nor rotary
   positions: they are written out, with masks that layers share.
   ============================================================================================= */
#if FT__HAS_ONNX
/* ---- Steps ---- */

/* A size as a part of a name. */
static const char *ft__out_size_text(int size, char text[16])
{
    if (size == FT_LENGTH) return "L";
    snprintf(text, 16, "%d", size);
    return text;
}

/* A value of this name that several nodes share: made once. */
static const char *ft__out_shared(ft__onnx_out *o, const char *name, const char *op, const char *a,
                                  const char *b)
{
    const char *made = ft__out_made(o, name);
    return made ? made : ft__out_2(o, op, ft__out_unused(o, name), a, b);
}

/* The length of the run's sequences, one int64: of the first input that has one. */
static const char *ft__out_length(ft__onnx_out *o)
{
    const char *made = ft__out_made(o, "length");
    int i, d;
    for (i = 0; !made && i < o->m->node_count; ++i) {
        const ft__node *node = &o->m->nodes[i];
        if (!ft__is_input(node) || !o->needed[i]) continue;
        for (d = 1; d < node->shape.rank && node->shape.size[d] != FT_LENGTH; ++d) {}
        if (d == node->shape.rank) continue;
        made = ft__out_1(o, "Shape", ft__out_unused(o, "shape"), o->value[i]);
        made = ft__out_2(o, "Gather", ft__out_unused(o, "length"), made, ft__out_whole(o, d));
    }
    return made ? made : ft__out_whole(o, 1);
}

/* A size, which may be FT_LENGTH, as one int64. */
static const char *ft__out_size(ft__onnx_out *o, int size)
{
    return size == FT_LENGTH ? ft__out_length(o) : ft__out_whole(o, size);
}

/* 0, 1, ... size - 1, int64. */
static const char *ft__out_steps(ft__onnx_out *o, int size)
{
    char name[40], number[16];
    const char *made;
    snprintf(name, sizeof name, "steps/%s", ft__out_size_text(size, number));
    made = ft__out_made(o, name);
    return made ? made : ft__out_3(o, "Range", ft__out_unused(o, name), ft__out_whole(o, 0),
                                   ft__out_size(o, size), ft__out_whole(o, 1));
}

/* The same as a column, [size, 1]. */
static const char *ft__out_step_column(ft__onnx_out *o, int size)
{
    char name[40], number[16];
    snprintf(name, sizeof name, "column/%s", ft__out_size_text(size, number));
    return ft__out_shared(o, name, "Unsqueeze", ft__out_steps(o, size), ft__out_one(o, 1));
}

/* The numbers of real steps, I32 [N] of input `i`, as [N, 1 ..] of this rank. */
static const char *ft__out_lengths(ft__onnx_out *o, const ft__node *node, int i, int rank)
{
    static const int axes[] = {1, 2, 3, 4};
    char name[1024];
    snprintf(name, sizeof name, "%.900s/rank%d", ft__out_input(o, node, i)->name, rank);
    return ft__out_shared(o, name, "Unsqueeze", ft__out_x(o, node, i),
                          ft__out_list(o, axes, rank - 1));
}

/* [N, steps, 1], bool: whether a step is real. */
static const char *ft__out_real_steps(ft__onnx_out *o, const ft__node *node, int i, int steps)
{
    char name[1024], number[16];
    snprintf(name, sizeof name, "%.900s/real/%s", ft__out_input(o, node, i)->name,
             ft__out_size_text(steps, number));
    return ft__out_shared(o, name, "Less", ft__out_step_column(o, steps),
                          ft__out_lengths(o, node, i, 3));
}

/* ---- Embeddings and positions ---- */

/* Rows of a table by number. An id of -1, which is no word here, is ONNX's last row. */
static const char *ft__out_embedding(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_2(o, op, node->name, ft__out_x(o, node, 1), ft__out_x(o, node, 0));
    return NULL;
}

static const char *ft__out_add_positions(ft__onnx_out *o, const ft__node *node, const char *op)
{
    int first = node->options.add_positions.first, steps = node->shape.size[1];
    const char *rows = ft__out_x(o, node, 1), *places;
    if (node->input_count > 2)
        rows = ft__out_2(o, "Gather", ft__out_name(o, node, "rows"), rows, ft__out_x(o, node, 2));
    else if (steps != FT_LENGTH && (first || steps != ft__out_input(o, node, 1)->shape.size[0]))
        rows = ft__out_cut(o, ft__out_name(o, node, "rows"), rows, 0, first,
                           (int64_t)first + steps);
    else if (steps == FT_LENGTH) {
        places = ft__out_steps(o, steps);
        if (first)
            places = ft__out_2(o, "Add", ft__out_name(o, node, "places"), places,
                               ft__out_whole(o, first));
        rows = ft__out_2(o, "Gather", ft__out_name(o, node, "rows"), rows, places);
    }
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0), rows);
    return NULL;
}

/* The cosines (0) or sines (1) of the angles, [L, 1, pairs] or [N, L, 1, pairs]; layers with the
   same frequencies and positions share them. */
static const char *ft__out_turns(ft__onnx_out *o, const ft__node *node, int pairs, int which)
{
    const ft_rotary_options *a = &node->options.rotary;
    static const int of_samples[] = {2, 3}, of_all[] = {1, 2};
    bool given = node->input_count > 1;
    char name[1024], number[16];
    const char *made, *y;
    float *frequencies;
    int i, at = snprintf(name, sizeof name, "rotary/%d/%.9g/%d/%.9g/%.9g/%.9g/%d/%.700s", pairs,
                         (double)a->base, (int)a->scaling, (double)a->factor,
                         (double)a->low_frequency_factor, (double)a->high_frequency_factor,
                         a->original_length, given ? ft__out_input(o, node, 1)->name
                             : ft__out_size_text(node->shape.size[1], number));
    made = ft__out_made(o, name);
    if (!made) {
        frequencies = (float *)ft__allocate(o->c, (size_t)pairs, sizeof *frequencies);
        for (i = 0; frequencies && i < pairs; ++i)
            frequencies[i] = ft__rotary_frequency(a, (size_t)i, (size_t)pairs);
        if (!frequencies) return "";
        y = ft__out_floats(o, ft__out_name(o, node, "frequencies"), frequencies, &pairs, 1);
        ft__release(o->c, frequencies);
        made = ft__out_cast(o, ft__out_name(o, node, "places"), given ? ft__out_x(o, node, 1)
                            : ft__out_steps(o, node->shape.size[1]), FT__ONNX_F32);
        made = ft__out_2(o, "Unsqueeze", ft__out_name(o, node, "columns"), made,
                         ft__out_list(o, given ? of_samples : of_all, 2));
        made = ft__out_2(o, "Mul", ft__out_unused(o, name), made, y);
    }
    snprintf(name + at, sizeof name - (size_t)at, which ? "/sines" : "/cosines");
    return ft__out_shared(o, name, which ? "Sin" : "Cos", made, NULL);
}

/* The first or second numbers of the pairs, [N, L, heads, pairs]. x: [N, L, heads, width], or
   interleaved [N, L, heads, pairs, 2]. */
static const char *ft__out_of_pairs(ft__onnx_out *o, const ft__node *node, const char *x, int pairs,
                                    int which)
{
    const char *y = ft__out_name(o, node, which ? "second" : "first");
    if (!node->options.rotary.interleaved)
        return ft__out_cut(o, y, x, 3, (int64_t)which * pairs, (int64_t)(which + 1) * pairs);
    ft__out_int(o, "axis", 4);
    return ft__out_2(o, "Gather", y, x, ft__out_whole(o, which));
}

/* a cos - b sin and b cos + a sin for each pair (a, b); other numbers stay. */
static const char *ft__out_rotary(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_rotary_options *a = &node->options.rotary;
    int size[5], width, pairs, i;
    const char *heads, *turned, *x[2], *y[3], *turns[2];
    (void)op;
    memcpy(size, node->shape.size, 2 * sizeof *size);
    size[2] = ft__rotary_heads(a);
    size[3] = width = node->shape.size[2] / size[2];
    pairs = (a->dimensions ? a->dimensions : width) / 2;
    for (i = 0; i < 2; ++i) turns[i] = ft__out_turns(o, node, pairs, i);
    heads = turned = ft__out_reshape(o, ft__out_name(o, node, "heads"), ft__out_x(o, node, 0),
                                     &node->shape, size, 4);
    if (a->interleaved) {
        ft_shape four = node->shape;
        four.rank = 4;
        memcpy(four.size, size, 4 * sizeof *size);
        if (2 * pairs < width)
            turned = ft__out_cut(o, ft__out_name(o, node, "turned"), heads, 3, 0, 2 * pairs);
        size[3] = pairs;
        size[4] = 2;
        turned = ft__out_reshape(o, ft__out_name(o, node, "pairs"), turned, &four, size, 5);
    }
    for (i = 0; i < 2; ++i) x[i] = ft__out_of_pairs(o, node, turned, pairs, i);
    for (i = 0; i < 2; ++i) {
        const char *cosine = ft__out_2(o, "Mul", ft__out_name(o, node, i ? "b_cos" : "a_cos"), x[i],
                                       turns[0]);
        const char *sine = ft__out_2(o, "Mul", ft__out_name(o, node, i ? "a_sin" : "b_sin"),
                                     x[1 - i], turns[1]);
        y[i] = ft__out_2(o, i ? "Add" : "Sub", ft__out_name(o, node, i ? "b" : "a"), cosine, sine);
        if (a->interleaved)
            y[i] = ft__out_unsqueeze(o, ft__out_name(o, node, i ? "b1" : "a1"), y[i], 4);
    }
    if (a->interleaved) {
        turned = ft__out_name(o, node, "beside");
        ft__out_int(o, "axis", 4);
        ft__out_node(o, "Concat", y, 2, &turned, 1);
        size[0] = size[1] = 0;
        size[3] = 2 * pairs;
        y[0] = ft__out_2(o, "Reshape", ft__out_name(o, node, "flat"), turned,
                         ft__out_list(o, size, 4));
    }
    i = a->interleaved ? 1 : 2;
    if (2 * pairs < width)
        y[i++] = ft__out_cut(o, ft__out_name(o, node, "rest"), heads, 3, 2 * pairs, width);
    turned = ft__out_name(o, node, "all");
    ft__out_int(o, "axis", 3);
    ft__out_node(o, "Concat", y, i, &turned, 1);
    size[0] = size[1] = 0;
    size[2] = node->shape.size[2];
    ft__out_2(o, "Reshape", node->name, turned, ft__out_list(o, size, 3));
    return NULL;
}

/* ---- Attention ---- */

typedef struct ft__out_heads {
    const ft__node *node;
    int part[3];            /* the inputs q, k and v */
    int lengths, positions; /* inputs; 0: none */
    int queries, keys;      /* T and S, or FT_LENGTH */
    int heads, some, width, value_width; /* some: heads of k and v; D, E */
    int rank;               /* of the scores: 4, or 5 if k and v have fewer heads */
} ft__out_heads;

static ft__out_heads ft__out_heads_of(const ft__onnx_out *o, const ft__node *node)
{
    const ft_attention_options *a = &node->options.attention;
    bool packed = node->input_count < 3 || ft__out_input(o, node, 1)->type == FT_I32;
    const ft_shape *q = &ft__out_input(o, node, 0)->shape;
    ft__out_heads t;
    int i;
    memset(&t, 0, sizeof t);
    t.node = node;
    for (i = packed ? 1 : 3; i < node->input_count; ++i)
        if (ft__out_input(o, node, i)->shape.rank == 2) t.positions = i;
        else t.lengths = i;
    for (i = 1; i < 3; ++i) t.part[i] = packed ? 0 : i;
    t.heads = ft__heads_of(a);
    t.some = ft__key_heads_of(a);
    t.queries = q->size[1];
    t.keys = ft__out_input(o, node, t.part[1])->shape.size[1];
    t.value_width = node->shape.size[2] / t.heads;
    t.width = q->size[2] / (packed ? t.heads + 2 * t.some : t.heads);
    t.rank = t.some < t.heads ? 5 : 4;
    return t;
}

/* q (0), k (1) or v (2) by heads, [N, heads, T, D], k as [N, heads, D, S]; of fewer heads of k and
   v as [N, some, heads / some or 1, ..]. */
static const char *ft__out_part(ft__onnx_out *o, const ft__out_heads *t, int which)
{
    static const char *const names[3][3] = {{"q_columns", "q_heads", "q"},
        {"k_columns", "k_heads", "k"}, {"v_columns", "v_heads", "v"}};
    int width = which < 2 ? t->width : t->value_width, heads = which ? t->some : t->heads, last;
    int size[5], axes[5] = {0, 2, 1, 3, 4};
    const char *y = ft__out_x(o, t->node, t->part[which]);
    ft_shape from = ft__out_input(o, t->node, t->part[which])->shape;
    if (!t->part[1]) { /* columns of one input */
        int first = which ? t->heads * t->width + (which > 1 ? t->some * t->width : 0) : 0;
        y = ft__out_cut(o, ft__out_name(o, t->node, names[which][0]), y, 2, first,
                        (int64_t)first + (int64_t)heads * width);
    }
    size[0] = from.size[0];
    size[1] = from.size[1];
    size[2] = t->some;
    size[3] = t->rank == 5 ? heads / t->some : width;
    size[4] = width;
    y = ft__out_reshape(o, ft__out_name(o, t->node, names[which][1]), y, &from, size, t->rank);
    if (t->rank == 5) {
        axes[2] = 3;
        axes[3] = 1;
    }
    if (which == 1) { /* k is read transposed */
        last = axes[t->rank - 1];
        axes[t->rank - 1] = axes[t->rank - 2];
        axes[t->rank - 2] = last;
    }
    ft__out_ints(o, "perm", axes, t->rank);
    return ft__out_1(o, "Transpose", ft__out_name(o, t->node, names[which][2]), y);
}

/* Which keys a causal query sees: those up to its own place, counted from the end if there are
   more, or fewer, keys than queries. [T, S], or [N, 1, T, S]. */
static const char *ft__out_causal(ft__onnx_out *o, const ft__out_heads *t)
{
    char name[1024], numbers[2][16];
    const char *place = ft__out_step_column(o, t->queries), *keys;
    bool by_length = t->lengths && t->node->options.attention.all_queries;
    snprintf(name, sizeof name, "%.900s/offset/%s/%s/rank%d", by_length
             ? ft__out_input(o, t->node, t->lengths)->name : "causal",
             ft__out_size_text(t->queries, numbers[0]), ft__out_size_text(t->keys, numbers[1]),
             by_length ? t->rank : 2);
    if (by_length || t->queries != t->keys) {
        keys = by_length ? ft__out_lengths(o, t->node, t->lengths, t->rank)
            : ft__out_size(o, t->keys);
        keys = ft__out_shared(o, name, "Sub", keys, ft__out_size(o, t->queries));
        strcat(name, "/last");
        place = ft__out_shared(o, name, "Add", place, keys);
    }
    strcat(name, "/seen");
    return ft__out_shared(o, name, "LessOrEqual", ft__out_steps(o, t->keys), place);
}

/* Of several documents a query sees its own alone, which begins at t - position[t]. */
static const char *ft__out_own_document(ft__onnx_out *o, const ft__out_heads *t)
{
    static const int axes[] = {1, 3}, more[] = {1, 2, 4};
    const ft__node *positions = ft__out_input(o, t->node, t->positions);
    const char *begin;
    char name[1024];
    snprintf(name, sizeof name, "%.900s/begins", positions->name);
    begin = ft__out_shared(o, name, "Sub", ft__out_steps(o, t->queries),
                           ft__out_x(o, t->node, t->positions));
    snprintf(name, sizeof name, "%.900s/begins/rank%d", positions->name, t->rank);
    begin = ft__out_shared(o, name, "Unsqueeze", begin,
                           ft__out_list(o, t->rank == 5 ? more : axes, t->rank - 2));
    strcat(name, "/seen");
    return ft__out_shared(o, name, "GreaterOrEqual", ft__out_steps(o, t->keys), begin);
}

/* Which keys a query sees, bool; NULL: all. */
static const char *ft__out_seen(ft__onnx_out *o, const ft__out_heads *t)
{
    const char *seen = t->node->options.attention.causal ? ft__out_causal(o, t) : NULL, *more[2];
    char name[2100], number[16];
    int i;
    more[0] = t->positions ? ft__out_own_document(o, t) : NULL;
    more[1] = NULL;
    if (t->lengths) {
        snprintf(name, sizeof name, "%.900s/keys/%s/rank%d",
                 ft__out_input(o, t->node, t->lengths)->name, ft__out_size_text(t->keys, number),
                 t->rank);
        more[1] = ft__out_shared(o, name, "Less", ft__out_steps(o, t->keys),
                                 ft__out_lengths(o, t->node, t->lengths, t->rank));
    }
    for (i = 0; i < 2; ++i) {
        if (!more[i]) continue;
        snprintf(name, sizeof name, "%.900s&%.900s", seen ? seen : "", more[i]);
        seen = seen ? ft__out_shared(o, name, "And", seen, more[i]) : more[i];
    }
    return seen;
}

/* What is added to the scores: 0, or for keys that are not seen the lowest number. */
static const char *ft__out_mask(ft__onnx_out *o, const char *seen)
{
    char name[1100];
    const char *made;
    snprintf(name, sizeof name, "%.1000s/mask", seen);
    made = ft__out_made(o, name);
    return made ? made : ft__out_3(o, "Where", ft__out_unused(o, name), seen, ft__out_number(o, 0),
                                   ft__out_number(o, -FLT_MAX));
}

/* A bool value as 1 or 0. */
static const char *ft__out_as_number(ft__onnx_out *o, const char *holds)
{
    char name[1100];
    const char *made;
    snprintf(name, sizeof name, "%.1000s/number", holds);
    made = ft__out_made(o, name);
    return made ? made : ft__out_cast(o, ft__out_unused(o, name), holds, FT__ONNX_F32);
}

/* softmax(scale q k^T + mask) v. A query that sees no key, and one that is padding, gives zeros. */
static const char *ft__out_attention(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_attention_options *a = &node->options.attention;
    ft__out_heads t = ft__out_heads_of(o, node);
    bool padded = t.lengths && !a->all_queries; /* queries */
    bool none = (t.lengths && a->all_queries)
        || (a->causal && t.queries != t.keys && !(t.queries > 0 && t.queries <= t.keys));
    float scale = a->scale > 0 ? a->scale : (float)(1 / sqrt((double)t.width));
    const char *seen = ft__out_seen(o, &t), *y, *v;
    int axes[5] = {0, 2, 1, 3, 4}, size[3];
    (void)op;
    y = ft__out_part(o, &t, 0);
    v = ft__out_part(o, &t, 1);
    y = ft__out_2(o, "MatMul", ft__out_name(o, node, "products"), y, v);
    v = ft__out_part(o, &t, 2);
    y = ft__out_2(o, "Mul", ft__out_name(o, node, "scores"), y, ft__out_number(o, scale));
    if (seen) y = ft__out_2(o, "Add", ft__out_name(o, node, "masked"), y, ft__out_mask(o, seen));
    ft__out_int(o, "axis", -1);
    y = ft__out_1(o, "Softmax", ft__out_name(o, node, "shares"), y);
    if (none)
        y = ft__out_2(o, "Mul", ft__out_name(o, node, "seen"), y, ft__out_as_number(o, seen));
    y = ft__out_2(o, "MatMul", ft__out_name(o, node, "sums"), y, v);
    if (t.rank == 5) {
        axes[1] = 3;
        axes[2] = 1;
        axes[3] = 2;
    }
    ft__out_ints(o, "perm", axes, t.rank);
    y = ft__out_1(o, "Transpose", ft__out_name(o, node, "steps"), y);
    size[0] = size[1] = 0;
    size[2] = node->shape.size[2];
    y = ft__out_2(o, "Reshape", padded ? ft__out_name(o, node, "all") : node->name, y,
                  ft__out_list(o, size, 3));
    if (padded)
        ft__out_2(o, "Mul", node->name, y,
                  ft__out_as_number(o, ft__out_real_steps(o, node, t.lengths, t.queries)));
    return NULL;
}
#endif
