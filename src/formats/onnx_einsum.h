#pragma once
#include "platform/families.h"
#include "basics/strings.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_folding.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"
#include "formats/onnx_shapes.h"

/* =============================================================================================
   [SECTION] formats/onnx_einsum: Einsum
   One or two terms, written as sums, turns and matrix products. With two terms, the letters of both
   are summed over, or not: those are the batch of the product. Letters of one term are its rows or
   columns.
   ============================================================================================= */
#if FT__HAS_ONNX

/* A value, with a letter for each axis. */
typedef struct ft__onnx_term { ft__onnx_value v; char letters[FT__ONNX_RANK + 1]; } ft__onnx_term;

/* Reads a term of an equation, up to a comma, "->" or the end. An ellipsis stands for so many
   digits that there is a letter for each axis. NULL: the letters are not as many as the axes. */
static const char *ft__onnx_read_term(const char *from, int rank, char *letters)
{
    const char *at;
    int count = 0, given = 0, more, i;
    for (at = from; *at && *at != ',' && *at != '-'; ++at) given += *at != ' ' && *at != '.';
    more = rank - given;
    if (more < 0 || rank > FT__ONNX_RANK) return NULL;
    for (at = from; *at && *at != ',' && *at != '-'; ++at) {
        if (strncmp(at, "...", 3) == 0) {
            for (i = more; i > 0; --i) letters[count++] = (char)('0' + i);
            at += 2;
            more = 0;
        } else if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z')) {
            if (count >= FT__ONNX_RANK) return NULL;
            letters[count++] = *at;
        } else if (*at != ' ') return NULL;
    }
    letters[count] = 0;
    return more == 0 ? at : NULL;
}

/* How often a letter is in two texts. */
static int ft__onnx_letter_count(const char *a, const char *b, char letter)
{
    int count = 0;
    for (; *a; ++a) count += *a == letter;
    for (; *b; ++b) count += *b == letter;
    return count;
}

/* The output's letters where an equation has none: of an ellipsis, and those that are there once,
   by the alphabet. */
static void ft__onnx_implied(const char *a, const char *b, char *output)
{
    int letter, count = 0;
    for (letter = '9'; letter > '0'; --letter)
        if (ft__onnx_letter_count(a, b, (char)letter)) output[count++] = (char)letter;
    for (letter = 'A'; letter <= 'z'; ++letter)
        if (ft__onnx_letter_count(a, b, (char)letter) == 1 && count < FT__ONNX_RANK)
            output[count++] = (char)letter;
    output[count] = 0;
}

/* The terms of a node and its output's letters. NULL, or what is not supported. */
static const char *ft__onnx_terms(ft__onnx *x, const ft__onnx_node *n, ft__onnx_term *term,
                                  char *output)
{
    static const char *const wrong = "its equation does not fit its inputs";
    const char *at = ft__onnx_text(n, "equation", ""), *letter;
    int i, rank = 0;
    if (n->input_count < 1 || n->input_count > 2) return "is supported with one or two terms";
    term[1].letters[0] = 0;
    for (i = 0; i < n->input_count; ++i) {
        if (!ft__onnx_input(x, n, i)) return ft__onnx_needs_node;
        term[i].v = *ft__onnx_input(x, n, i);
        at = ft__onnx_read_term(at, term[i].v.rank, term[i].letters);
        if (!at || (i + 1 < n->input_count && *at++ != ',')) return wrong;
        for (letter = term[i].letters; *letter; ++letter)
            if (ft__onnx_letter_count(term[i].letters, "", *letter) > 1)
                return "a letter that is twice in one term is not supported";
        if (term[i].v.kind == FT__ONNX_NODE && ft__onnx_is_merged(&term[i].v))
            return "a batch of several axes is not supported";
    }
    ft__onnx_implied(term[0].letters, term[1].letters, output);
    if (!*at) return NULL;
    for (letter = output; *letter >= '1' && *letter <= '9'; ++letter) ++rank; /* of the ellipsis */
    if (strncmp(at, "->", 2) != 0) return wrong;
    if (!strstr(at, "...")) rank = 0;
    for (letter = at + 2; *letter; ++letter) rank += *letter != ' ' && *letter != '.';
    if (rank > FT__ONNX_RANK || !(at = ft__onnx_read_term(at + 2, rank, output)) || *at)
        return wrong;
    for (letter = output; *letter; ++letter)
        if (ft__onnx_letter_count(output, "", *letter) > 1
            || !ft__onnx_letter_count(term[0].letters, term[1].letters, *letter)) return wrong;
    return NULL;
}

/* Adds to a text the letters of `from` that are in `in`, NULL: in any, and not in `without`. */
static void ft__onnx_letters(char *to, const char *from, const char *in, const char *without)
{
    size_t count = strlen(to);
    for (; *from; ++from)
        if ((!in || strchr(in, *from)) && (!without || !strchr(without, *from)))
            to[count++] = *from;
    to[count] = 0;
}

/* The axis of a letter that the term has. */
static int ft__onnx_letter_axis(const ft__onnx_term *t, char letter)
{
    return (int)(strchr(t->letters, letter) - t->letters);
}

/* The product of the sizes of these letters. */
static ft__onnx_number ft__onnx_letter_sizes(const ft__onnx_term *t, const char *letters)
{
    ft__onnx_number product = ft__onnx_known(1);
    for (; *letters; ++letters)
        product = ft__onnx_times(product, t->v.size[ft__onnx_letter_axis(t, *letters)]);
    return product;
}

/* Sums a node over the letters that are in neither text. NULL, or what is not supported. */
static const char *ft__onnx_sum_letters(ft__onnx *x, const char *name, ft__onnx_term *t,
                                        const char *keep, const char *other)
{
    int own[FT__ONNX_RANK], count = 0, rank = 0, batch = 0, d;
    ft__text fields = ft__onnx_fields(x);
    for (d = 0; d < t->v.rank; ++d) {
        bool kept = strchr(keep, t->letters[d]) || strchr(other, t->letters[d]);
        if (!kept && d == t->v.batch) return "over the batch is not supported";
        if (!kept) {
            own[count++] = ft__onnx_own_axis(&t->v, d);
            continue;
        }
        if (d == t->v.batch) batch = rank;
        t->v.size[rank] = t->v.size[d];
        t->letters[rank++] = t->letters[d];
    }
    if (!count) return NULL;
    t->letters[rank] = 0;
    t->v.rank = rank;
    t->v.batch = batch;
    ft__onnx_add_reduction(&fields, own, count, false);
    t->v.made = ft__onnx_make_one(x, "sum", name, t->v.made, &fields);
    return NULL;
}

/* Turns a node's axes into the order of these letters, which are all of its. */
static void ft__onnx_turn_letters(ft__onnx *x, const char *name, ft__onnx_term *t,
                                  const char *order)
{
    int axes[FT__ONNX_RANK], d;
    ft__onnx_value from = t->v;
    for (d = 0; d < from.rank; ++d) axes[d] = ft__onnx_letter_axis(t, order[d]);
    t->v.made = ft__onnx_make_turn(x, name, &from, axes, &t->v);
    memmove(t->letters, order, strlen(order) + 1);
}

/* The node with its axes from `first` on replaced by these, of the same numbers. */
static void ft__onnx_replace_axes(ft__onnx *x, const char *name, ft__onnx_value *v, int first,
                                  const ft__onnx_number *size, int count)
{
    ft__onnx_value to = *v;
    int d;
    to.rank = first + count;
    for (d = 0; d < count && to.rank <= FT__ONNX_RANK; ++d) to.size[first + d] = size[d];
    to.made = to.rank > FT__ONNX_RANK ? -1 : ft__onnx_make_shape(x, name, v->made, v, &to);
    *v = to;
}

/* Adds the sizes of these letters to a list; returns how many it has then. */
static int ft__onnx_add_sizes(const ft__onnx_term *t, const char *letters, ft__onnx_number *size,
                              int count)
{
    for (; *letters && count < FT__ONNX_RANK; ++letters)
        size[count++] = t->v.size[ft__onnx_letter_axis(t, *letters)];
    return count;
}

/* The result, whose axes have these letters, in the output's order. */
static const char *ft__onnx_finish_term(ft__onnx *x, const ft__onnx_node *n, ft__onnx_term *t,
                                        const char *letters, const char *output)
{
    if (t->v.made < 0) return "cannot be written in our operators";
    memmove(t->letters, letters, strlen(letters) + 1);
    ft__onnx_turn_letters(x, ft__onnx_name_of(x, n), t, output);
    return ft__onnx_is_made(x, n, 0, t->v.made, &t->v);
}

/* A constant as the matrix of a linear layer: [in, out] or [out, in], if its letters stand so, else
   turned to that. -1: it cannot be. */
static int ft__onnx_term_matrix(ft__onnx *x, const char *name, ft__onnx_value *from,
                                const ft__onnx_term *t, const char *in, const char *out)
{
    char order[2 * FT__ONNX_RANK + 2] = "", other[2 * FT__ONNX_RANK + 2] = "";
    int axes[FT__ONNX_RANK], d, made;
    ft__onnx_value matrix = t->v, shape = t->v, *turned;
    bool as_is;
    strcat(strcat(order, in), out);
    strcat(strcat(other, out), in);
    as_is = strcmp(t->letters, other) == 0;
    if (!as_is && strcmp(t->letters, order) != 0) {
        for (d = 0; d < shape.rank; ++d) {
            axes[d] = ft__onnx_letter_axis(t, order[d]);
            shape.size[d] = t->v.size[axes[d]];
        }
        if (!ft__onnx_numbers(x, &matrix)) return -1;
        turned = ft__onnx_new_constant(x, ft__onnx_name(x, name, ".weight"), &shape);
        if (!turned) return -1;
        ft__onnx_pick(&matrix, turned, axes, NULL);
        matrix = *turned;
        from = turned;
    }
    if (matrix.rank != 2 || !*in || !*out) {
        matrix.rank = 2;
        matrix.size[as_is] = ft__onnx_letter_sizes(t, in);
        matrix.size[!as_is] = ft__onnx_letter_sizes(t, out);
        if (matrix.turned && !ft__onnx_numbers(x, &matrix)) return -1;
        if (matrix.turned) matrix.tensor = -1;
    }
    made = ft__onnx_matrix(x, &matrix, as_is);
    from->made = matrix.made;
    return made;
}

/* A node and a constant: a linear layer over the letters that are summed. */
static const char *ft__onnx_einsum_linear(ft__onnx *x, const ft__onnx_node *n, ft__onnx_term *a,
                                          ft__onnx_term *b, int constant, const char *output)
{
    char in[FT__ONNX_RANK + 2] = "", out[FT__ONNX_RANK + 1] = "", order[2 * FT__ONNX_RANK + 2] = "";
    const char *name = ft__onnx_name_of(x, n), *fault, *letter;
    ft__onnx_number size[FT__ONNX_RANK], wide;
    int weight, kept, count;
    size_t summed;
    for (letter = b->letters; *letter; ++letter)
        if ((strchr(output, *letter) != NULL) == (strchr(a->letters, *letter) != NULL))
            return "a letter of its constant must be either in the other term or in the output";
    fault = ft__onnx_sum_letters(x, ft__onnx_name(x, name, ".sum"), a, output, b->letters);
    if (fault) return fault;
    ft__onnx_letters(in, b->letters, a->letters, NULL);
    ft__onnx_letters(out, b->letters, NULL, a->letters);
    size[0] = ft__onnx_letter_sizes(a, in);
    order[0] = a->letters[a->v.batch];
    if (strchr(in, order[0])) return "over the batch is not supported";
    if (!ft__onnx_equal(size[0], ft__onnx_letter_sizes(b, in))) return "its sizes do not fit";
    weight = ft__onnx_term_matrix(x, name, &x->values[n->inputs[constant]], b, in, out);
    if (weight < 0) return "its weights cannot be read";
    summed = strlen(in);
    in[summed] = order[0];
    in[summed + 1] = 0;
    ft__onnx_letters(order, a->letters, NULL, in); /* the batch, and what is not summed */
    in[summed] = 0;
    kept = (int)strlen(order);
    strcat(order, in);
    ft__onnx_turn_letters(x, ft__onnx_name(x, name, ".turned"), a, order);
    ft__onnx_replace_axes(x, ft__onnx_name(x, name, ".rows"), &a->v, kept, size, 1);
    a->v.made = ft__onnx_make_two(x, "linear", ft__onnx_name(x, name, ".product"), a->v.made,
                                  weight, NULL);
    wide = ft__onnx_letter_sizes(b, out);
    a->v.size[kept] = wide;
    count = ft__onnx_add_sizes(b, out, size, 0);
    ft__onnx_replace_axes(x, ft__onnx_name(x, name, ".axes"), &a->v, kept, size, count);
    order[kept] = 0;
    strcat(order, out);
    return ft__onnx_finish_term(x, n, a, order, output);
}

/* Two nodes: a product of matrices for each place of `both`, the letters that the output has too,
   the batch first. */
static const char *ft__onnx_einsum_nodes(ft__onnx *x, const ft__onnx_node *n, ft__onnx_term *a,
                                         ft__onnx_term *b, const char *both, const char *in,
                                         const char *output)
{
    char rows[FT__ONNX_RANK + 1] = "", columns[FT__ONNX_RANK + 1] = "", order[4 * FT__ONNX_RANK];
    const char *name = ft__onnx_name_of(x, n);
    ft__onnx_number size[2], axes[FT__ONNX_RANK], sum = ft__onnx_letter_sizes(a, in);
    int count, places = (int)strlen(both), made;
    ft__onnx_letters(rows, a->letters, NULL, b->letters);
    ft__onnx_letters(columns, b->letters, NULL, a->letters);
    count = ft__onnx_add_sizes(a, rows, axes, 0);
    count = ft__onnx_add_sizes(b, columns, axes, count);
    strcat(strcat(strcpy(order, both), rows), in);
    ft__onnx_turn_letters(x, ft__onnx_name(x, name, ".a"), a, order);
    strcat(strcat(strcpy(order, both), in), columns);
    ft__onnx_turn_letters(x, ft__onnx_name(x, name, ".b"), b, order);
    if (*rows || *columns || *in) {
        size[0] = ft__onnx_letter_sizes(a, rows);
        size[1] = sum;
        ft__onnx_replace_axes(x, ft__onnx_name(x, name, ".left"), &a->v, places, size, 2);
        size[0] = sum;
        size[1] = ft__onnx_letter_sizes(b, columns);
        ft__onnx_replace_axes(x, ft__onnx_name(x, name, ".right"), &b->v, places, size, 2);
        made = ft__onnx_make_two(x, "matmul", ft__onnx_name(x, name, ".product"), a->v.made,
                                 b->v.made, NULL);
        a->v.made = made;
        a->v.size[places + 1] = size[1];
        ft__onnx_replace_axes(x, ft__onnx_name(x, name, ".axes"), &a->v, places, axes, count);
    } else a->v.made = ft__onnx_make_two(x, "mul", ft__onnx_name(x, name, ".product"), a->v.made,
                                         b->v.made, NULL);
    strcat(strcat(strcpy(order, both), rows), columns);
    return ft__onnx_finish_term(x, n, a, order, output);
}

/* Two nodes: sums over the letters of one term alone, and finds those of both. */
static const char *ft__onnx_einsum_pair(ft__onnx *x, const ft__onnx_node *n, ft__onnx_term *a,
                                        ft__onnx_term *b, const char *output)
{
    char shared[FT__ONNX_RANK + 1] = "", both[FT__ONNX_RANK + 2] = "", in[FT__ONNX_RANK + 1] = "";
    char one[2] = "";
    const char *name = ft__onnx_name_of(x, n), *letter;
    const char *fault = ft__onnx_sum_letters(x, ft__onnx_name(x, name, ".sum_a"), a, output,
                                             b->letters);
    if (!fault) fault = ft__onnx_sum_letters(x, ft__onnx_name(x, name, ".sum_b"), b, output,
                                             a->letters);
    if (fault) return fault;
    ft__onnx_letters(shared, a->letters, b->letters, NULL);
    for (letter = shared; *letter; ++letter)
        if (!ft__onnx_equal(a->v.size[ft__onnx_letter_axis(a, *letter)],
                            b->v.size[ft__onnx_letter_axis(b, *letter)]))
            return "its sizes do not fit";
    one[0] = both[0] = a->letters[a->v.batch];
    if (b->letters[b->v.batch] != one[0] || !strchr(output, one[0]))
        return "over the batch is not supported";
    ft__onnx_letters(both, shared, output, one);
    ft__onnx_letters(in, shared, NULL, output);
    return ft__onnx_einsum_nodes(x, n, a, b, both, in, output);
}

static const char *ft__onnx_einsum(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_term term[2];
    char output[FT__ONNX_RANK + 2], order[FT__ONNX_RANK + 1];
    const char *fault = ft__onnx_terms(x, n, term, output);
    int node, two = n->input_count == 2;
    if (fault) return fault;
    node = term[0].v.kind == FT__ONNX_NODE ? 0 : 1;
    if (node > two || term[node].v.kind != FT__ONNX_NODE) return ft__onnx_needs_node;
    if (!two) {
        fault = ft__onnx_sum_letters(x, ft__onnx_name(x, ft__onnx_name_of(x, n), ".sum"), &term[0],
                                     output, "");
        return fault ? fault : ft__onnx_finish_term(x, n, &term[0], strcpy(order, term[0].letters),
                                                    output);
    }
    if (term[!node].v.kind == FT__ONNX_NODE)
        return ft__onnx_einsum_pair(x, n, &term[0], &term[1], output);
    if (term[!node].v.kind != FT__ONNX_CONSTANT) return ft__onnx_needs_node;
    return ft__onnx_einsum_linear(x, n, &term[node], &term[!node], !node, output);
}
#endif
