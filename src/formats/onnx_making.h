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
/* =============================================================================================
   [SECTION] formats/onnx_making: Nodes of our network from an ONNX graph
   What the mapping of operators is written with. ONNX has the batch anywhere, here it is the first
   dimension: a value of ONNX with the batch at axis b is the node with that axis moved to the front
   and the others in their order. If that axis is more than N, such as N L or L N after a Reshape to
   [-1, D], the node has N and what is left of it as two dimensions.
   ============================================================================================= */
#if FT__HAS_ONNX
/* Adds to a text what follows a node's inputs. */
static void ft__onnx_add_int(ft__text *fields, const char *key, int number)
{
    ft__text_add(fields, ",\"%s\":%d", key, number);
}

static void ft__onnx_add_flag(ft__text *fields, const char *key, bool flag)
{
    if (flag) ft__text_add(fields, ",\"%s\":true", key);
}

static void ft__onnx_write_number(ft__text *fields, double number)
{
    if (number - number == 0 && fabs(number) <= (double)FLT_MAX)
        ft__json_add_float(fields, (float)number);
    else if (number != number) ft__text_add(fields, "\"nan\"");
    else ft__text_add(fields, number < 0 ? "\"-inf\"" : "\"inf\"");
}

static void ft__onnx_add_number(ft__text *fields, const char *key, double number)
{
    ft__text_add(fields, ",\"%s\":", key);
    ft__onnx_write_number(fields, number);
}

/* The axes of a reduction, of the node's. */
static void ft__onnx_add_reduction(ft__text *fields, const int *axes, int count, bool keep)
{
    ft__json_add_ints(fields, "axes", axes, count);
    ft__onnx_add_int(fields, "count", count);
    ft__onnx_add_flag(fields, "keep", keep);
}

static ft__text ft__onnx_fields(ft__onnx *x)
{
    ft__text fields;
    memset(&fields, 0, sizeof fields);
    fields.context = x->file->context;
    return fields;
}

static char *ft__onnx_keep(ft__onnx *x, const char *text)
{
    char *kept = (char *)ft__file_memory(x->file, strlen(text) + 1);
    if (kept) strcpy(kept, text);
    return kept;
}

/* A name that ends with `end`. */
static const char *ft__onnx_name(ft__onnx *x, const char *name, const char *end)
{
    char *made = (char *)ft__file_memory(x->file, strlen(name) + strlen(end) + 1);
    if (!made) return name;
    strcpy(made, name);
    strcat(made, end);
    return made;
}

/* Adds a node; releases its fields. Returns its number; -1 with an error, or if an input is -1. */
static int ft__onnx_make(ft__onnx *x, const char *op, const char *name, const int *inputs,
                         int count, ft__text *fields)
{
    ft__onnx_made *made;
    const char *kept = fields && fields->letters ? ft__onnx_keep(x, fields->letters) : "";
    int i;
    if (fields) ft__release(x->file->context, fields->letters);
    for (i = 0; i < count; ++i)
        if (inputs[i] < 0) return -1;
    made = (ft__onnx_made *)ft__onnx_grown(x, x->made, x->made_count, &x->made_room, sizeof *made);
    if (!made) return -1;
    x->made = made;
    made += x->made_count;
    memset(made, 0, sizeof *made);
    made->op = op;
    made->name = name;
    made->fields = kept;
    made->count = count;
    made->inputs = (int *)ft__file_memory(x->file, ((size_t)count + 1) * sizeof(int));
    if (!made->inputs || !kept) return -1;
    if (count) memcpy(made->inputs, inputs, (size_t)count * sizeof(int));
    return x->made_count++;
}

static int ft__onnx_make_one(ft__onnx *x, const char *op, const char *name, int input,
                             ft__text *fields)
{
    return ft__onnx_make(x, op, name, &input, 1, fields);
}

static int ft__onnx_make_two(ft__onnx *x, const char *op, const char *name, int a, int b,
                             ft__text *fields)
{
    int inputs[2];
    inputs[0] = a;
    inputs[1] = b;
    return ft__onnx_make(x, op, name, inputs, 2, fields);
}

static int ft__onnx_make_affine(ft__onnx *x, const char *name, int made, double scale, double shift)
{
    ft__text fields = ft__onnx_fields(x);
    ft__onnx_add_number(&fields, "scale", scale);
    ft__onnx_add_number(&fields, "shift", shift);
    return ft__onnx_make_one(x, "affine", name, made, &fields);
}

static bool ft__onnx_is_op(const ft__onnx *x, int made, const char *op)
{
    return made >= 0 && strcmp(x->made[made].op, op) == 0;
}

/* ---- Shapes ---- */

/* Whether the batch's axis is more than the batch. */
static bool ft__onnx_is_merged(const ft__onnx_value *v)
{
    return v->size[v->batch].l != 0 || v->size[v->batch].k > 1;
}

/* The sizes of the node, the batch first; returns how many they are. */
static int ft__onnx_own(const ft__onnx_value *v, ft__onnx_number *own)
{
    int rank = 0, d;
    ft__onnx_number n = ft__onnx_known(1);
    n.n = 1;
    own[rank++] = n;
    if (ft__onnx_is_merged(v)) own[rank++] = ft__onnx_over(v->size[v->batch], n);
    for (d = 0; d < v->rank; ++d)
        if (d != v->batch) own[rank++] = v->size[d];
    return rank;
}

/* Where an axis of ONNX is in the node. */
static int ft__onnx_own_axis(const ft__onnx_value *v, int axis)
{
    if (axis == v->batch) return 0;
    return (axis < v->batch ? axis + 1 : axis) + ft__onnx_is_merged(v);
}

/* A size as our networks have it: a number, or FT_LENGTH; 0: it is neither. */
static int ft__onnx_size(ft__onnx_number size)
{
    if (ft__onnx_is_known(size) && size.k >= 1 && size.k <= INT_MAX) return (int)size.k;
    return ft__onnx_size_is_length(size) ? FT_LENGTH : 0;
}

/* Whether the node is [N, C, H, W] of known sizes. */
static bool ft__onnx_is_picture(const ft__onnx_value *v)
{
    return v->kind == FT__ONNX_NODE && v->rank == 4 && v->batch == 0 && !ft__onnx_is_merged(v)
        && ft__onnx_size(v->size[1]) > 0 && ft__onnx_size(v->size[2]) > 0
        && ft__onnx_size(v->size[3]) > 0;
}

/* Makes output `i` of a node a node of our network, with this shape and batch axis. NULL, or why it
   cannot be. */
static const char *ft__onnx_is_made(ft__onnx *x, const ft__onnx_node *n, int i, int made,
                                    const ft__onnx_value *shape)
{
    ft__onnx_value *y = ft__onnx_output(x, n, i);
    if (!y) return NULL;
    if (made < 0) return "cannot be written in our operators";
    ft__onnx_set_shape(y, shape);
    y->batch = shape->batch;
    y->outer = shape->outer;
    y->made = made;
    y->type = shape->type;
    y->kind = FT__ONNX_NODE;
    return NULL;
}

/* The sizes of a node whose numbers are in ONNX's order but for the batch: what is merged with it
   stands between the axes before and after. */
static int ft__onnx_plain(const ft__onnx_value *v, ft__onnx_number *own)
{
    int rank = ft__onnx_own(v, own), d;
    ft__onnx_number merged = own[1];
    for (d = 1; ft__onnx_is_merged(v) && d <= v->batch; ++d) own[d] = own[d + 1];
    if (ft__onnx_is_merged(v)) own[d] = merged;
    return rank;
}

/* Moves an axis of a node to another place. */
static int ft__onnx_make_move(ft__onnx *x, const char *name, int made, int rank, int from, int to)
{
    int axes[FT__ONNX_RANK + 1], d, at = 0;
    ft__text fields = ft__onnx_fields(x);
    if (from == to) return made;
    for (d = 0; d < rank; ++d) {
        if (d == to) axes[d] = from;
        else {
            at += at == from;
            axes[d] = at++;
        }
    }
    ft__json_add_ints(&fields, "axes", axes, rank);
    return ft__onnx_make_one(x, "permute", name, made, &fields);
}

/* A node with other sizes after the batch, its numbers in ONNX's order; the node itself if they are
   its own. A reshape of a reshape reads what that read. Returns -1 if a size is not known. */
static int ft__onnx_make_shape(ft__onnx *x, const char *name, int made, const ft__onnx_value *from,
                               const ft__onnx_value *to)
{
    ft__onnx_number has[FT__ONNX_RANK + 1], wants[FT__ONNX_RANK + 1];
    int rank = ft__onnx_plain(from, has), want = ft__onnx_plain(to, wants), d;
    int size[FT__ONNX_RANK + 1];
    bool same = rank == want, turns = ft__onnx_is_merged(to) && to->batch > 0;
    ft__text fields = ft__onnx_fields(x);
    if (want > FINETUNE_MAX_RANK) return -1;
    if (ft__onnx_is_merged(from))
        made = ft__onnx_make_move(x, ft__onnx_name(x, name, ".whole"), made, rank, 1,
                                  from->batch + 1);
    for (d = 0; d < want; ++d) same = same && ft__onnx_equal(has[d], wants[d]);
    for (d = 1; d < want; ++d) {
        size[d - 1] = ft__onnx_size(wants[d]);
        if (!same && !size[d - 1]) return -1;
    }
    if (!same) {
        ft__onnx_add_int(&fields, "rank", want - 1);
        ft__json_add_ints(&fields, "size", size, want - 1);
        if (ft__onnx_is_op(x, made, "reshape")) made = x->made[made].inputs[0];
        made = ft__onnx_make_one(x, "reshape", turns ? ft__onnx_name(x, name, ".parts") : name,
                                 made, &fields);
    }
    return turns ? ft__onnx_make_move(x, name, made, want, to->batch + 1, 1) : made;
}

/* ---- Weights ---- */

/* The shape of a leaf as a field. */
static void ft__onnx_add_shape(ft__text *fields, const int *size, int rank)
{
    static const int one[] = {1};
    ft__json_add_ints(fields, "shape", rank ? size : one, rank ? rank : 1);
}

/* Adds a tensor of numbers that were computed to those of the file. */
static bool ft__onnx_list_computed(ft__onnx *x, ft__onnx_value *v, const char *name,
                                   const int *size, int rank)
{
    ft_file *file = x->file, *holder;
    ft_tensor_info *t;
    int64_t count = ft__onnx_count(v), i;
    unsigned char *bytes;
    if (count < 1 || !ft__onnx_numbers(x, v)) return false;
    bytes = (unsigned char *)ft__file_memory(file, 4 * (size_t)count);
    for (i = 0; bytes && i < count; ++i) {
        if (!ft__onnx_is_known(ft__onnx_at(v, i))) return false;
        ft__onnx_put(bytes, i, ft__onnx_at(v, i).k);
    }
    holder = bytes ? ft__file_add_holder(file, NULL, bytes, 4 * (uint64_t)count) : NULL;
    t = holder ? ft__file_add(file) : NULL;
    if (!t) return false;
    memset(t, 0, sizeof *t);
    t->name = name;
    t->type = FT_F32;
    t->type_name = ft__type_names[FT_F32];
    t->shape.rank = rank;
    memcpy(t->shape.size, size, (size_t)rank * sizeof *size);
    t->bytes = 4 * (uint64_t)count;
    t->shard = file->shard_count - 1;
    ft__row_major(t);
    return true;
}

/* A leaf of this shape with the numbers of a constant, in their order or, of an initialiser that
   lies `transposed`, its columns. An initialiser keeps its name, and its tensor is listed in this
   shape; two uses of it are one weight. Returns -1 if it cannot be. */
static int ft__onnx_leaf(ft__onnx *x, ft__onnx_value *v, const char *op, const int *size, int rank,
                         bool transposed, bool as_tensor)
{
    ft__onnx_tensor *t = as_tensor ? &x->tensors[v->tensor] : NULL;
    int *memo = t ? &t->made : &v->made, in_file[2], made;
    const char *name = t ? x->values[t->value].name : v->name;
    ft__text fields = ft__onnx_fields(x);
    ft_tensor_info *info;
    ft__onnx_add_shape(&fields, size, rank);
    ft__onnx_add_flag(&fields, "transposed", transposed);
    if (*memo) {
        made = *memo - 1;
        if (!fields.letters || strcmp(x->made[made].fields, fields.letters) != 0) made = -1;
        ft__release(x->file->context, fields.letters);
        return made;
    }
    in_file[0] = transposed ? size[1] : 0;
    in_file[1] = transposed ? size[0] : 0;
    if (!t && !ft__onnx_list_computed(x, v, name, transposed ? in_file : size, rank)) {
        ft__release(x->file->context, fields.letters);
        return -1;
    }
    if (t) {
        info = &x->file->tensors[t->listed];
        info->shape.rank = rank;
        memcpy(info->shape.size, transposed ? in_file : size, (size_t)rank * sizeof *size);
        ft__row_major(info);
    }
    made = ft__onnx_make(x, op, name, NULL, 0, &fields);
    *memo = made + 1;
    return made;
}

/* Whether a constant can be a weight of so many numbers; *as_tensor: as the initialiser it is. */
static bool ft__onnx_can_be_weight(ft__onnx *x, const ft__onnx_value *v, const int *size, int rank,
                                   bool *as_tensor)
{
    int64_t count = 1;
    int d;
    for (d = 0; d < rank; ++d) count *= size[d] > 0 && count < INT_MAX ? size[d] : 0;
    *as_tensor = v->tensor >= 0 && x->tensors[v->tensor].listed >= 0;
    return v->kind == FT__ONNX_CONSTANT && ft__onnx_is_float(v->type) && count > 0 && rank > 0
        && rank <= FINETUNE_MAX_RANK && ft__onnx_count(v) == count;
}

static int ft__onnx_weight(ft__onnx *x, ft__onnx_value *v, const char *op, const int *size,
                           int rank)
{
    bool as_tensor;
    if (!v || !ft__onnx_can_be_weight(x, v, size, rank, &as_tensor)) return -1;
    return ft__onnx_leaf(x, v, op, size, rank, false, as_tensor && !v->turned);
}

/* A vector, whatever sizes of 1 it has. */
static int ft__onnx_vector(ft__onnx *x, ft__onnx_value *v, const char *op)
{
    int count = v ? (int)ft__onnx_count(v) : 0;
    return ft__onnx_weight(x, v, op, &count, 1);
}

/* The weight [out, in] of a linear layer; `as_is`: the constant is [out, in], else [in, out]. */
static int ft__onnx_matrix(ft__onnx *x, ft__onnx_value *v, bool as_is)
{
    int size[2], rank = v->rank, d;
    bool as_tensor, transposed = !as_is;
    for (d = 0; d < rank - 2; ++d)
        if (!ft__onnx_is(v->size[d], 1)) return -1;
    if (rank < 2) return -1;
    size[0] = ft__onnx_size(v->size[rank - (as_is ? 2 : 1)]);
    size[1] = ft__onnx_size(v->size[rank - (as_is ? 1 : 2)]);
    if (!ft__onnx_can_be_weight(x, v, size, 2, &as_tensor)) return -1;
    if (as_tensor) transposed = as_is == v->turned;
    return ft__onnx_leaf(x, v, "parameter", size, 2, transposed, as_tensor);
}

/* A constant of one number. */
static int ft__onnx_make_number(ft__onnx *x, const char *name, double number)
{
    ft__text fields = ft__onnx_fields(x);
    static const int one[] = {1};
    ft__json_add_ints(&fields, "shape", one, 1);
    ft__text_add(&fields, ",\"values\":[");
    ft__onnx_write_number(&fields, number);
    ft__text_add(&fields, "]");
    return ft__onnx_make(x, "constant", name, NULL, 0, &fields);
}

/* The number of a constant that has one; false: it has others. */
static bool ft__onnx_is_number(ft__onnx *x, ft__onnx_value *v, double *number)
{
    if (!v || v->kind != FT__ONNX_CONSTANT) return false;
    if (v->same && v->numbers && ft__onnx_is_known(v->numbers[0])) {
        *number = v->numbers[0].k;
        return true;
    }
    return ft__onnx_count(v) == 1 && ft__onnx_wholes(x, v, number, 1) == 1;
}
#endif
