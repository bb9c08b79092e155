#pragma once
#include "platform/families.h"
#include "kernels/elementary.h"
#include "kernels/stored.h"
#include "formats/readers.h"
#include "formats/onnx_file.h"

/* =============================================================================================
   [SECTION] formats/onnx_values: What an ONNX graph computes of constants and of sizes
   Exporters write how a shape follows from another one as nodes: Shape, Gather, Concat, Reshape.
   These are computed here, once, with the batch N and the length L as symbols, so that none of them
   is left in the network. The same functions compute weights that follow from initialisers.
   ============================================================================================= */
#if FT__HAS_ONNX
enum { FT__ONNX_MOST = 1 << 28 }; /* numbers of a value */

static ft__onnx_number ft__onnx_known(double k)
{
    ft__onnx_number number;
    number.k = k;
    number.n = number.l = 0;
    return number;
}

static bool ft__onnx_is_known(ft__onnx_number a) { return a.n == 0 && a.l == 0 && a.k - a.k == 0; }

static bool ft__onnx_same_symbol(ft__onnx_number a, ft__onnx_number b)
{
    return a.n == b.n && a.l == b.l;
}

static bool ft__onnx_equal(ft__onnx_number a, ft__onnx_number b)
{
    return ft__onnx_same_symbol(a, b) && !(a.k < b.k) && !(a.k > b.k) && a.k - a.k == 0;
}

static bool ft__onnx_is(ft__onnx_number a, double k)
{
    return ft__onnx_equal(a, ft__onnx_known(k));
}

static bool ft__onnx_size_is_length(ft__onnx_number size)
{
    return size.n == 0 && size.l == 1 && size.k >= 1 && size.k <= 1;
}

static ft__onnx_number ft__onnx_times(ft__onnx_number a, ft__onnx_number b)
{
    a.k *= b.k;
    a.n += b.n;
    a.l += b.l;
    if (a.k >= 0 && a.k <= 0) a.n = a.l = 0;
    return a;
}

/* NAN if a symbol would be left in a denominator. */
static ft__onnx_number ft__onnx_over(ft__onnx_number a, ft__onnx_number b)
{
    a.k = b.k < 0 || b.k > 0 ? a.k / b.k : (double)NAN;
    a.n -= b.n;
    a.l -= b.l;
    return a.n < 0 || a.l < 0 ? ft__onnx_known((double)NAN) : a;
}

static void ft__onnx_set_shape(ft__onnx_value *v, const ft__onnx_value *shape)
{
    v->rank = shape->rank;
    memcpy(v->size, shape->size, sizeof v->size);
}

/* The product of sizes [from, to). */
static ft__onnx_number ft__onnx_product(const ft__onnx_value *v, int from, int to)
{
    ft__onnx_number product = ft__onnx_known(1);
    for (; from < to; ++from) product = ft__onnx_times(product, v->size[from]);
    return product;
}

/* How many numbers a constant has; -1: that is not known, or too many. */
static int64_t ft__onnx_count(const ft__onnx_value *v)
{
    ft__onnx_number product = ft__onnx_product(v, 0, v->rank);
    int d;
    for (d = 0; d < v->rank; ++d)
        if (v->size[d].k > floor(v->size[d].k)) return -1; /* a list of sizes of floats */
    return ft__onnx_is_known(product) && product.k >= 0 && product.k <= (double)FT__ONNX_MOST
        ? (int64_t)product.k : -1;
}

static bool ft__onnx_is_float(int type)
{
    return type == FT__ONNX_F32 || type == FT__ONNX_F16 || type == FT__ONNX_F64
        || type >= FT__ONNX_BF16;
}

/* A number as its type holds it. */
static ft__onnx_number ft__onnx_of_type(ft__onnx_number a, int type)
{
    if (type == FT__ONNX_F32) a.k = (double)(float)a.k;
    else if (type == FT__ONNX_BOOL && a.k - a.k == 0) a.k = a.k < 0 || a.k > 0;
    else if (!ft__onnx_is_float(type)) a.k = a.k < 0 ? ceil(a.k) : floor(a.k);
    return a;
}

static double ft__onnx_decode(const unsigned char *at, int type)
{
    uint64_t bits = ft__little_endian(at, ft__onnx_type_bytes(type));
    double number;
    switch (type) {
    case FT__ONNX_F32: return (double)ft__from_bits((uint32_t)bits);
    case FT__ONNX_F16: return (double)ft__half_to_float((uint32_t)bits);
    case FT__ONNX_BF16: return (double)ft__from_bits((uint32_t)bits << 16);
    case FT__ONNX_E4M3: return (double)ft__e4m3_to_float((uint32_t)bits);
    case FT__ONNX_E5M2: return (double)ft__half_to_float((uint32_t)bits << 8);
    case FT__ONNX_F64:
        memcpy(&number, &bits, sizeof number);
        return number;
    case FT__ONNX_I8: return (double)bits - (bits > 0x7f ? 0x100 : 0);
    case FT__ONNX_I16: return (double)bits - (bits > 0x7fff ? 0x10000 : 0);
    case FT__ONNX_I32: return (double)bits - (bits > 0x7fffffff ? 4294967296.0 : 0);
    case FT__ONNX_I64: return (double)(int64_t)bits;
    default: return (double)bits;
    }
}

/* Number i of a tensor of float32. */
static void ft__onnx_put(unsigned char *floats, int64_t i, double number)
{
    uint32_t bits = ft__to_bits((float)number);
    int k;
    for (k = 0; k < 4; ++k) floats[4 * i + k] = (unsigned char)(bits >> 8 * k);
}

/* Whether so many more numbers may be computed: memory follows the bytes that are there, in all
   files. */
static bool ft__onnx_has_room(ft__onnx *x, int64_t count)
{
    uint64_t bytes = 0;
    int i;
    for (i = 0; i < x->file->shard_count; ++i) bytes += x->file->shards[i]->size;
    x->computed += (uint64_t)count;
    return x->computed <= (1 << 20) + 4 * bytes;
}

/* Memory for so many numbers; NULL: they are too many. */
static ft__onnx_number *ft__onnx_new_numbers(ft__onnx *x, int64_t count)
{
    if (count < 0 || !ft__onnx_has_room(x, count)) return NULL;
    return (ft__onnx_number *)ft__file_memory(x->file, ((size_t)count + 1)
                                                           * sizeof(ft__onnx_number));
}

/* The numbers of a constant; read from its tensor the first time. NULL: it has none that are known,
   or with an error. */
static ft__onnx_number *ft__onnx_numbers(ft__onnx *x, ft__onnx_value *v)
{
    const ft__onnx_tensor *t;
    int64_t count = ft__onnx_count(v), i, rows, columns;
    int bytes;
    if (v->kind != FT__ONNX_CONSTANT) return NULL;
    if (v->steps) return NULL; /* as many as there are samples or steps */
    if (v->numbers || v->tensor < 0) return v->numbers;
    t = &x->tensors[v->tensor];
    if (!t->data || !(v->numbers = ft__onnx_new_numbers(x, count))) return NULL;
    bytes = ft__onnx_type_bytes(t->type);
    columns = v->turned ? t->size[1] : 1;
    rows = v->turned ? t->size[0] : count;
    for (i = 0; i < count; ++i) {
        int64_t from = v->turned ? i % rows * columns + i / rows : i;
        v->numbers[i] = ft__onnx_known(ft__onnx_decode(t->data + from * bytes, t->type));
    }
    return v->numbers;
}

static ft__onnx_number ft__onnx_at(const ft__onnx_value *v, int64_t i)
{
    return v->numbers[v->same ? 0 : i];
}

/* How many numbers of a constant lie in memory: one if all are the same. */
static int64_t ft__onnx_held(const ft__onnx_value *v)
{
    return v->same ? 1 : ft__onnx_count(v);
}

/* The numbers of a constant, all known and at most `most`; returns how many; -1: it is no such
   constant. */
static int ft__onnx_wholes(ft__onnx *x, ft__onnx_value *v, double *to, int most)
{
    int64_t count = v ? ft__onnx_count(v) : -1, i;
    if (!v || v->kind != FT__ONNX_CONSTANT || count < 0 || count > most || !ft__onnx_numbers(x, v))
        return -1;
    for (i = 0; i < count; ++i) {
        if (!ft__onnx_is_known(ft__onnx_at(v, i))) return -1;
        to[i] = ft__onnx_at(v, i).k;
    }
    return (int)count;
}

/* Whether all numbers of a constant are the same, or go up by 1; `number`: the first. */
static bool ft__onnx_is_run(ft__onnx *x, ft__onnx_value *v, double step, double *number)
{
    int64_t count = ft__onnx_held(v), i;
    if (v->kind != FT__ONNX_CONSTANT || count < 1 || !ft__onnx_numbers(x, v)
        || (v->same && step > 0)) return false;
    *number = v->numbers[0].k;
    for (i = 0; i < count; ++i)
        if (!ft__onnx_is(v->numbers[i], *number + step * (double)i)) return false;
    return true;
}

/* ---- What a node says ---- */

static ft__onnx_value *ft__onnx_input(ft__onnx *x, const ft__onnx_node *n, int i)
{
    return i >= 0 && i < n->input_count && n->inputs[i] >= 0 ? &x->values[n->inputs[i]] : NULL;
}

static ft__onnx_value *ft__onnx_output(ft__onnx *x, const ft__onnx_node *n, int i)
{
    return i < n->output_count && n->outputs[i] >= 0 ? &x->values[n->outputs[i]] : NULL;
}

static int64_t ft__onnx_int(const ft__onnx_node *n, const char *name, int64_t otherwise)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, name);
    return a ? a->whole : otherwise;
}

static float ft__onnx_float(const ft__onnx_node *n, const char *name, float otherwise)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, name);
    return a ? a->number : otherwise;
}

static const char *ft__onnx_text(const ft__onnx_node *n, const char *name, const char *otherwise)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, name);
    return a ? a->text : otherwise;
}

/* Numbers that are an attribute or, since some opset, input `i` (-1: never); returns how many, -1:
   none. */
static int ft__onnx_list(ft__onnx *x, const ft__onnx_node *n, const char *name, int i, double *to,
                         int most)
{
    const ft__onnx_attribute *a = ft__onnx_attribute_of(n, name);
    int k;
    if (!a) return ft__onnx_wholes(x, ft__onnx_input(x, n, i), to, most);
    for (k = 0; k < a->count && k < most; ++k) to[k] = (double)a->wholes[k];
    return a->count > most ? -1 : a->count;
}

/* An axis, counted from the end if it is negative; -1: there is no such axis. */
static int ft__onnx_axis(double axis, int rank)
{
    if (axis < 0) axis += rank;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

/* ---- Computing ---- */

/* Makes an output a constant of this shape, with numbers to be set; NULL: it cannot be. `same`: a
   single number is set, which all are. */
static ft__onnx_number *ft__onnx_fold_to(ft__onnx *x, ft__onnx_value *y,
                                         const ft__onnx_value *shape, int type, bool same)
{
    ft__onnx_number *numbers = ft__onnx_new_numbers(x, same ? 1 : ft__onnx_count(shape));
    if (!numbers) return NULL;
    ft__onnx_set_shape(y, shape);
    y->kind = FT__ONNX_CONSTANT;
    y->type = type;
    y->same = same;
    y->tensor = -1;
    return y->numbers = numbers;
}

/* A new constant of floats, with numbers to be set; NULL: it cannot be. */
static ft__onnx_value *ft__onnx_new_constant(ft__onnx *x, const char *name,
                                             const ft__onnx_value *shape)
{
    int value = ft__onnx_add_value(x, name);
    ft__onnx_value *v = value < 0 ? NULL : &x->values[value];
    return v && ft__onnx_fold_to(x, v, shape, FT__ONNX_F32, false) ? v : NULL;
}

/* Makes an output a constant of which only the shape is known. Returns true. */
static bool ft__onnx_fold_to_shape(ft__onnx_value *y, const ft__onnx_value *shape)
{
    ft__onnx_set_shape(y, shape);
    y->kind = FT__ONNX_CONSTANT;
    return true;
}

/* An output that is a view of an input: its numbers, in this shape. */
static bool ft__onnx_fold_view(ft__onnx_value *y, const ft__onnx_value *v,
                               const ft__onnx_value *shape)
{
    ft__onnx_value view = *v;
    view.name = y->name;
    view.producer = y->producer;
    view.uses = y->uses;
    ft__onnx_set_shape(&view, shape);
    *y = view;
    return true;
}

/* The sizes of constants that are broadcast to each other; false: they cannot be. */
static bool ft__onnx_broadcast(ft__onnx *x, const ft__onnx_node *n, ft__onnx_value *y)
{
    int i, d;
    y->rank = 0;
    for (i = 0; i < n->input_count; ++i) {
        const ft__onnx_value *v = ft__onnx_input(x, n, i);
        if (!v) return false;
        if (v->rank > y->rank) {
            memmove(y->size + (v->rank - y->rank), y->size, (size_t)y->rank * sizeof *y->size);
            for (d = 0; d < v->rank - y->rank; ++d) y->size[d] = ft__onnx_known(1);
            y->rank = v->rank;
        }
        for (d = 0; d < v->rank; ++d) {
            ft__onnx_number *to = &y->size[y->rank - v->rank + d];
            if (ft__onnx_is(*to, 1)) *to = v->size[d];
            else if (!ft__onnx_is(v->size[d], 1) && !ft__onnx_equal(v->size[d], *to)) return false;
        }
    }
    return true;
}

/* Number i of y in an input that is broadcast to it, or tiled. */
static ft__onnx_number ft__onnx_across(const ft__onnx_value *v, const ft__onnx_value *y, int64_t i)
{
    int64_t at = 0, step = 1;
    int d;
    for (d = 1; i > 0 && d <= v->rank; ++d) {
        int64_t size = (int64_t)v->size[v->rank - d].k, all = (int64_t)y->size[y->rank - d].k;
        at += i % all % size * step;
        i /= all;
        step *= size;
    }
    return ft__onnx_at(v, at);
}

/* a op b of numbers, one letter for each operator; NAN: not known. */
static ft__onnx_number ft__onnx_compute(char op, ft__onnx_number a, ft__onnx_number b, bool whole)
{
    bool same = ft__onnx_same_symbol(a, b);
    bool zero = ft__onnx_is(a, 0), is_a = a.k < 0 || a.k > 0, is_b = b.k < 0 || b.k > 0;
    double k;
    if (op == '*') return ft__onnx_times(a, b);
    if (op == '/') {
        a = ft__onnx_over(a, b);
        if (whole && ft__onnx_is_known(a)) a.k = a.k < 0 ? ceil(a.k) : floor(a.k);
        return a;
    }
    if ((op == '+' || op == '-') && ft__onnx_is(b, 0)) return a;
    if (op == '+' && zero) return b;
    if (op == '=' && !same && a.k > 0) return ft__onnx_known(0); /* a size is no -1 and no 0 */
    if (!same) return ft__onnx_known((double)NAN);
    k = op == '+' ? a.k + b.k : op == '-' ? a.k - b.k : op == '=' ? !(a.k < b.k || a.k > b.k)
        : op == '<' ? a.k < b.k : op == '>' ? a.k > b.k : op == 'l' ? a.k <= b.k
        : op == 'g' ? a.k >= b.k : op == 'm' ? (a.k < b.k ? a.k : b.k)
        : op == 'M' ? (a.k > b.k ? a.k : b.k) : op == '&' ? is_a && is_b
        : op == '|' ? is_a || is_b : op == 'x' ? is_a != is_b : op == '^' ? pow(a.k, b.k)
        : (op == '%' || op == 'F') && (b.k < 0 || b.k > 0) ? fmod(a.k, b.k) : (double)NAN;
    if (op == '%' && k * b.k < 0) k += b.k; /* Python's, the sign of b */
    if (!strchr("+-mM", op) && !ft__onnx_is_known(a) && op != '=') k = (double)NAN;
    a.k = k;
    if (strchr("=<>lg&|x", op)) a.n = a.l = 0;
    if (k - k == 0 && ft__onnx_is(a, 0)) a.n = a.l = 0;
    return a;
}

/* ---- Constants that count ---- */

/* Whether a constant counts, or is one number. */
static bool ft__onnx_counts(ft__onnx *x, ft__onnx_value *v)
{
    return v->steps || ((v->same || ft__onnx_count(v) == 1) && ft__onnx_numbers(x, v));
}

/* A constant that is listed but counts, such as 0, 1, 2, ... along one axis, as one that counts: a
   copy of it, v itself if it is another. */
static ft__onnx_value ft__onnx_as_counting(ft__onnx *x, ft__onnx_value *v)
{
    ft__onnx_value copy = *v;
    ft__onnx_number steps[FT__ONNX_RANK], *numbers;
    int64_t count = ft__onnx_count(v), stride = 1, rest, i;
    int d;
    if (ft__onnx_counts(x, v) || count < 2 || !(numbers = ft__onnx_numbers(x, v))) return copy;
    for (d = v->rank - 1; d >= 0; --d) {
        int64_t size = (int64_t)v->size[d].k;
        steps[d] = ft__onnx_known(size > 1 ? numbers[stride].k - numbers[0].k : 0);
        stride *= size;
    }
    for (i = 0; i < count; ++i) {
        double want = numbers[0].k;
        for (d = v->rank - 1, rest = i; d >= 0; --d) {
            want += steps[d].k * (double)(rest % (int64_t)v->size[d].k);
            rest /= (int64_t)v->size[d].k;
        }
        if (!ft__onnx_is(numbers[i], want)) return *v;
    }
    copy.numbers = numbers;
    copy.steps = (ft__onnx_number *)ft__file_memory(x->file, sizeof steps);
    if (copy.steps) memcpy(copy.steps, steps, (size_t)v->rank * sizeof *steps);
    return copy;
}

/* By how much a constant that is broadcast to `rank` axes counts along one of them. */
static ft__onnx_number ft__onnx_step(const ft__onnx_value *v, int rank, int axis)
{
    axis -= rank - v->rank;
    return v->steps && axis >= 0 ? v->steps[axis] : ft__onnx_known(0);
}

/* Makes an output a constant that counts, with steps to be set; NULL: it cannot be. */
static ft__onnx_number *ft__onnx_fold_steps_to(ft__onnx *x, ft__onnx_value *y,
                                               const ft__onnx_value *shape, int type,
                                               ft__onnx_number first)
{
    if (!ft__onnx_fold_to(x, y, shape, type, true)) return NULL;
    y->numbers[0] = first;
    y->same = false;
    y->steps = (ft__onnx_number *)ft__file_memory(x->file, ((size_t)y->rank + 1)
                                                               * sizeof *y->steps);
    return y->steps;
}

/* Whether a - b, of constants that count, compares with 0 as `op` says: 1, 0; -1: not known, or not
   the same everywhere. Indices are not negative. */
static int ft__onnx_compare_counts(char op, const ft__onnx_value *a, const ft__onnx_value *b,
                                   int rank)
{
    ft__onnx_number first = ft__onnx_compute('-', a->numbers[0], b->numbers[0], true);
    bool up = true, down = true, over, under;
    int d;
    if (!ft__onnx_is_known(first)) return -1;
    for (d = 0; d < rank; ++d) {
        ft__onnx_number step = ft__onnx_compute('-', ft__onnx_step(a, rank, d),
                                                ft__onnx_step(b, rank, d), true);
        if (!ft__onnx_is_known(step)) return -1;
        up = up && step.k >= 0;
        down = down && step.k <= 0;
    }
    over = op == 'g' || op == '<' ? first.k >= 0 : first.k > 0; /* what decides it from there up */
    under = op == 'l' || op == '>' ? first.k <= 0 : first.k < 0;
    if (op == '=' && up && down) return !over && !under;
    if (up && over) return op == 'g' || op == '>';
    if (down && under) return op == 'l' || op == '<';
    return -1;
}

/* a op b, where one of them counts. */
static bool ft__onnx_fold_counts(ft__onnx *x, const ft__onnx_node *n, char op, ft__onnx_value *a,
                                 ft__onnx_value *b)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), shape;
    ft__onnx_number first, steps[FT__ONNX_RANK], *to;
    int d, known;
    memset(&shape, 0, sizeof shape);
    if (n->input_count != 2 || !y || !ft__onnx_counts(x, a) || !ft__onnx_counts(x, b)
        || !ft__onnx_broadcast(x, n, &shape)) return false;
    if (strchr("=<>lg", op)) {
        known = ft__onnx_compare_counts(op, a, b, shape.rank);
        if (known < 0 || !ft__onnx_fold_to(x, y, &shape, FT__ONNX_BOOL, true)) return false;
        y->numbers[0] = ft__onnx_known(known);
        return true;
    }
    if (strchr("mM", op)) return ft__onnx_fold_to_shape(y, &shape); /* exporters ask for it */
    if (!strchr("+-*", op) || (op == '*' && a->steps && b->steps)) return false;
    first = ft__onnx_compute(op, a->numbers[0], b->numbers[0], true);
    for (d = 0; d < shape.rank; ++d) {
        ft__onnx_number i = ft__onnx_step(a, shape.rank, d), j = ft__onnx_step(b, shape.rank, d);
        steps[d] = op != '*' ? ft__onnx_compute(op, i, j, true)
            : ft__onnx_times(a->steps ? i : j, a->steps ? b->numbers[0] : a->numbers[0]);
        if (!(steps[d].k - steps[d].k == 0)) return false;
    }
    to = first.k - first.k == 0 ? ft__onnx_fold_steps_to(x, y, &shape, a->type, first) : NULL;
    for (d = 0; to && d < shape.rank; ++d) to[d] = steps[d];
    return to != NULL;
}

/* Whether the numbers of all inputs are known; *same: each input has a single one. */
static bool ft__onnx_fold_inputs(ft__onnx *x, const ft__onnx_node *n, bool *same)
{
    int i;
    for (i = 0, *same = true; i < n->input_count; ++i) {
        ft__onnx_value *v = ft__onnx_input(x, n, i);
        if (!v || !ft__onnx_numbers(x, v)) return false;
        *same = *same && (v->same || ft__onnx_count(v) == 1);
    }
    return true;
}

static bool ft__onnx_fold_pair(ft__onnx *x, const ft__onnx_node *n, char op)
{
    ft__onnx_value *a = ft__onnx_input(x, n, 0), *b = ft__onnx_input(x, n, 1);
    ft__onnx_value *y = ft__onnx_output(x, n, 0), shape;
    bool compares = strchr("=<>lg&|x", op) != NULL, same;
    int64_t i, count;
    int k, type;
    if (op == '%' && ft__onnx_int(n, "fmod", 0)) op = 'F'; /* C's: the sign of a */
    if (!a || (n->input_count > 1 && !b) || !y) return false;
    if (a->steps || (b && b->steps)) {
        ft__onnx_value counting[2];
        if (!b) return false;
        counting[0] = ft__onnx_as_counting(x, a);
        counting[1] = ft__onnx_as_counting(x, b);
        return ft__onnx_fold_counts(x, n, op, &counting[0], &counting[1]);
    }
    memset(&shape, 0, sizeof shape);
    type = compares ? FT__ONNX_BOOL : a->type;
    if (!ft__onnx_fold_inputs(x, n, &same) || !ft__onnx_broadcast(x, n, &shape)
        || !ft__onnx_fold_to(x, y, &shape, type, same)) return false;
    count = ft__onnx_held(y);
    for (i = 0; i < count; ++i) {
        ft__onnx_number r = ft__onnx_across(a, y, i);
        for (k = 1; k < n->input_count; ++k)
            r = ft__onnx_compute(op, r, ft__onnx_across(ft__onnx_input(x, n, k), y, i),
                                 !ft__onnx_is_float(a->type));
        y->numbers[i] = ft__onnx_of_type(r, type);
    }
    return true;
}

static bool ft__onnx_fold_where(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *y = ft__onnx_output(x, n, 0), *v[3], shape;
    bool same;
    int64_t i, count;
    int k;
    memset(&shape, 0, sizeof shape);
    for (k = 0; k < 3; ++k) v[k] = ft__onnx_input(x, n, k);
    if (!y || n->input_count != 3 || !ft__onnx_fold_inputs(x, n, &same)
        || !ft__onnx_broadcast(x, n, &shape)
        || !ft__onnx_fold_to(x, y, &shape, v[1]->type, same)) return false;
    count = ft__onnx_held(y);
    for (i = 0; i < count; ++i) {
        ft__onnx_number c = ft__onnx_across(v[0], y, i);
        k = ft__onnx_is(c, 0) ? 2 : 1;
        y->numbers[i] = ft__onnx_across(v[k], y, i);
        if (!ft__onnx_is_known(c)) y->numbers[i].k = (double)NAN;
    }
    return true;
}

/* One number after the other. */
static bool ft__onnx_fold_single(ft__onnx *x, const ft__onnx_node *n, char op)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *y = ft__onnx_output(x, n, 0);
    int64_t i, count;
    int type;
    if (!v || !y || (!(op == 'c' && v->steps) && !ft__onnx_numbers(x, v))) return false;
    type = op == 'c' ? (int)ft__onnx_int(n, "to", v->type) : op == '!' ? FT__ONNX_BOOL : v->type;
    if (op == 'c' && v->steps && type == FT__ONNX_BOOL) return false;
    if (op == 'c' && (type == v->type || v->steps
                      || (ft__onnx_is_float(type) && ft__onnx_is_float(v->type))))
        return ft__onnx_fold_view(y, v, v);
    if (!ft__onnx_fold_to(x, y, v, type, v->same)) return false;
    count = ft__onnx_held(y);
    for (i = 0; i < count; ++i) {
        ft__onnx_number a = v->numbers[i];
        if (op == '-') a.k = -a.k;
        else if (op == '!') a = ft__onnx_compute('=', a, ft__onnx_known(0), true);
        else if (op != 'c' && !ft__onnx_is_known(a)) a.k = (double)NAN;
        else if (op == 'a') a.k = fabs(a.k);
        else if (op == 's') a.k = sqrt(a.k);
        else if (op == 'e') a.k = exp(a.k);
        else if (op == 'n') a.k = log(a.k);
        else if (op == 'f') a.k = floor(a.k);
        else if (op == 'u') a.k = ceil(a.k);
        else if (op == 'r') a.k = 1 / a.k;
        y->numbers[i] = ft__onnx_of_type(a, type);
    }
    return true;
}
#endif
