#pragma once
#include "platform/families.h"
#include "platform/context.h"
#include "formats/readers.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"

/* =============================================================================================
   [SECTION] formats/onnx_quantised: Weights of a few bits in ONNX files
   They become float32 while the file is read, and are trained as such.
   ============================================================================================= */
#if FT__HAS_ONNX

/* Makes a value a tensor of float32 of this shape, listed under the value's name, whose numbers are
   to be put there. NULL: it cannot be. */
static unsigned char *ft__onnx_new_floats(ft__onnx *x, int value, const ft__onnx_value *shape)
{
    int64_t count = ft__onnx_count(shape);
    ft__onnx_value *y = &x->values[value];
    ft__onnx_tensor *t;
    unsigned char *bytes;
    int d;
    if (count < 1 || !ft__onnx_has_room(x, count)) return NULL;
    t = (ft__onnx_tensor *)ft__onnx_grown(x, x->tensors, x->tensor_count, &x->tensor_room,
                                          sizeof *t);
    bytes = (unsigned char *)ft__file_memory(x->file, 4 * (size_t)count);
    if (!t || !bytes) return NULL;
    x->tensors = t;
    t += x->tensor_count;
    memset(t, 0, sizeof *t);
    t->value = value;
    t->type = FT__ONNX_F32;
    t->rank = shape->rank;
    for (d = 0; d < t->rank; ++d) t->size[d] = (int64_t)shape->size[d].k;
    t->count = (uint64_t)count;
    t->data = bytes;
    t->shard = t->listed = -1;
    y->kind = FT__ONNX_CONSTANT;
    y->type = FT__ONNX_F32;
    ft__onnx_set_shape(y, shape);
    y->tensor = x->tensor_count++;
    y->turned = y->same = false;
    y->numbers = NULL;
    ft__onnx_list_tensor(x, t);
    return ft__ok(x->file->context) ? bytes : NULL;
}

/* Where number i of v is in a scale of its kind: one of all, one for each place along `axis`, or
   one for each `block` of them. -1: it has another shape. */
static int64_t ft__onnx_scale_place(const ft__onnx_value *scale, const ft__onnx_value *v, int axis,
                                    int64_t block, int64_t i)
{
    int64_t at = 0, step = 1;
    int d;
    if (ft__onnx_is(ft__onnx_product(scale, 0, scale->rank), 1)) return 0;
    if (axis < 0 || (block > 0 ? scale->rank != v->rank
                     : scale->rank != 1 || !ft__onnx_equal(scale->size[0], v->size[axis])))
        return -1;
    for (d = v->rank - 1; d >= 0; --d) {
        int64_t size = (int64_t)v->size[d].k, k = i % size, has = size;
        i /= size;
        if (block == 0 && d == axis) return k;
        if (block == 0) continue;
        if (d == axis) {
            k /= block;
            has = (size + block - 1) / block;
        }
        if (!ft__onnx_is(scale->size[d], (double)has)) return -1;
        at += k * step;
        step *= has;
    }
    return at;
}

/* DequantizeLinear of constants: (x - zero point) * scale. */
static bool ft__onnx_fold_dequantise(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *v = ft__onnx_input(x, n, 0), *scale = ft__onnx_input(x, n, 1);
    ft__onnx_value *zero = ft__onnx_input(x, n, 2), *y = ft__onnx_output(x, n, 0), shape;
    int axis = v ? ft__onnx_axis((double)ft__onnx_int(n, "axis", 1), v->rank) : -1;
    int64_t block = ft__onnx_int(n, "block_size", 0), count = v ? ft__onnx_count(v) : -1, i, at;
    const ft__onnx_tensor *t = v && v->tensor >= 0 ? &x->tensors[v->tensor] : NULL;
    const unsigned char *data = t && !v->turned && !v->same ? t->data : NULL; /* without a copy */
    unsigned char *to;
    if (!v || !scale || !y || count < 1 || block < 0 || !ft__onnx_numbers(x, scale)
        || (zero && (!ft__onnx_numbers(x, zero) || ft__onnx_count(zero) != ft__onnx_count(scale)))
        || (!data && !ft__onnx_numbers(x, v))) return false;
    shape = *v;
    to = ft__onnx_new_floats(x, n->outputs[0], &shape);
    for (i = 0; to && i < count; ++i) {
        double number = data
            ? ft__onnx_decode(data + i * ft__onnx_type_bytes(shape.type), shape.type)
            : ft__onnx_at(v, i).k;
        at = ft__onnx_scale_place(scale, &shape, axis, block, i);
        if (at < 0) return false;
        if (zero) number -= ft__onnx_at(zero, at).k;
        ft__onnx_put(to, i, (double)((float)number * (float)ft__onnx_at(scale, at).k));
    }
    return to != NULL;
}

/* Number k of a run of `bits` bits each, the lowest of a byte first. */
static int ft__onnx_bits(const unsigned char *run, int64_t k, int bits)
{
    int64_t at = k * bits;
    return run[at / 8] >> at % 8 & ((1 << bits) - 1);
}

/* The weight [N, K] of a MatMulNBits in the place of its packed one, [N, blocks, bytes]: each block
   of a row has a scale and, packed too or as a float, a zero point. NULL, or what is wrong. */
static const char *ft__onnx_unpack_weight(ft__onnx *x, const ft__onnx_node *n)
{
    ft__onnx_value *packed = ft__onnx_input(x, n, 1), *scale = ft__onnx_input(x, n, 2), shape;
    ft__onnx_value *zero = ft__onnx_input(x, n, 3);
    int64_t rows = ft__onnx_int(n, "N", 0), columns = ft__onnx_int(n, "K", 0), i, k;
    int64_t block = ft__onnx_int(n, "block_size", 0), blocks, bytes, zeros;
    int bits = (int)ft__onnx_int(n, "bits", 4);
    const unsigned char *from, *zero_from = NULL;
    unsigned char *to;
    if (bits != 2 && bits != 4 && bits != 8) return "is supported with 2, 4 and 8 bits";
    if (rows < 1 || rows > INT_MAX || columns < 1 || columns > INT_MAX || block < 1
        || block > INT_MAX || block * bits % 8) return "has sizes that are not supported";
    blocks = (columns + block - 1) / block;
    bytes = block * bits / 8;
    zeros = (blocks * bits + 7) / 8;
    if (!packed || packed->kind != FT__ONNX_CONSTANT || packed->tensor < 0 || packed->turned
        || packed->type != FT__ONNX_U8 || !scale || ft__onnx_count(packed) < 0
        || (double)rows * (double)blocks * (double)bytes > (double)FT__ONNX_MOST
        || ft__onnx_count(packed) != rows * blocks * bytes
        || ft__onnx_count(scale) != rows * blocks || !ft__onnx_numbers(x, scale))
        return "its weights are not as many constants as N, K and block_size say";
    if (zero && zero->type == FT__ONNX_U8 && zero->tensor >= 0
        && ft__onnx_count(zero) == rows * zeros)
        zero_from = x->tensors[zero->tensor].data;
    else if (zero && (ft__onnx_count(zero) != rows * blocks || !ft__onnx_numbers(x, zero)))
        return "its zero points are not as many constants as its blocks";
    from = x->tensors[packed->tensor].data;
    memset(&shape, 0, sizeof shape);
    shape.rank = 2;
    shape.size[0] = ft__onnx_known((double)rows);
    shape.size[1] = ft__onnx_known((double)columns);
    to = from ? ft__onnx_new_floats(x, n->inputs[1], &shape) : NULL;
    if (!to) return "its weights are too many for the bytes of the file";
    for (i = 0; i < rows; ++i)
        for (k = 0; k < columns; ++k) {
            int64_t b = i * blocks + k / block;
            double at = zero_from ? ft__onnx_bits(zero_from + i * zeros, k / block, bits)
                : zero ? ft__onnx_at(zero, b).k : 1 << (bits - 1);
            ft__onnx_put(to, i * columns + k, (double)((float)(
                ft__onnx_bits(from + b * bytes, k % block, bits) - at)
                                                       * (float)ft__onnx_at(scale, b).k));
        }
    return NULL;
}
#endif
