#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/more_activations.h"
#include "operators/reduce.h"
#include "operators/topk.h"
#include "operators/rows.h"
#include "formats/onnx_file.h"
#include "formats/onnx_writing.h"
/* =============================================================================================
   [SECTION] formats/onnx_elements_writing: Activations and arithmetic, as ONNX's operators
   Each function adds the nodes of one of ours, whose value is `node->name`; it returns NULL, or why
   that cannot be written. `op`: ONNX's operator, if several of ours are written alike. GELU and
   what else opset 17 lacks is written as PyTorch's exporter writes it.
   ============================================================================================= */
#if FT__HAS_ONNX
static const char *ft__out_same(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x[3];
    int i;
    for (i = 0; i < node->input_count && i < 3; ++i) x[i] = ft__out_x(o, node, i);
    ft__out_node(o, op, x, i, (const char *const *)&node->name, 1);
    return NULL;
}

static const char *ft__out_skip(ft__onnx_out *o, const ft__node *node, const char *op)
{
    (void)op;
    return ft__out_alias(o, node, ft__out_x(o, node, 0));
}

/* x f(x), with f one of ONNX's operators. */
static const char *ft__out_times_x(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *y;
    y = ft__out_1(o, op, ft__out_name(o, node, op), x);
    ft__out_2(o, "Mul", node->name, x, y);
    return NULL;
}

/* An activation's number: what the operator computes with, also where the option is 0. */
static float ft__out_option(const ft__node *node)
{
    return ft__rows[node->op]->activation->option(&node->options);
}

static const char *ft__out_with_slope(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_float(o, "alpha", ft__out_option(node));
    return ft__out_same(o, node, op);
}

static const char *ft__out_hardsigmoid(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_float(o, "alpha", 1.0f / 6);
    ft__out_float(o, "beta", 0.5f);
    return ft__out_same(o, node, op);
}

/* y: x between two bounds; one that is infinite is left out. */
static void ft__out_clip(ft__onnx_out *o, const char *y, const char *x, float low, float high)
{
    ft__out_3(o, "Clip", y, x, low < -FLT_MAX ? NULL : ft__out_number(o, low),
              high > FLT_MAX ? NULL : ft__out_number(o, high));
}

static const char *ft__out_clamp(ft__onnx_out *o, const ft__node *node, const char *op)
{
    float low = 0, high = 6; /* relu6 */
    (void)op;
    if (node->op == FT__OP_clamp) {
        low = node->options.unary.min;
        high = node->options.unary.max;
    } else if (node->op == FT__OP_hardtanh) {
        low = ft__hardtanh_low(&node->options);
        high = ft__hardtanh_high(&node->options);
    }
    ft__out_clip(o, node->name, ft__out_x(o, node, 0), low, high);
    return NULL;
}

/* x / 2 (1 + erf(x / sqrt(2))), or with tanh: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
static const char *ft__out_gelu(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *y;
    (void)op;
    if (node->options.activation.tanh_approximation) {
        y = ft__out_2(o, "Pow", ft__out_name(o, node, "cube"), x, ft__out_number(o, 3));
        y = ft__out_2(o, "Mul", ft__out_name(o, node, "part"), y, ft__out_number(o, 0.044715f));
        y = ft__out_2(o, "Add", ft__out_name(o, node, "sum"), x, y);
        y = ft__out_2(o, "Mul", ft__out_name(o, node, "scaled"), y,
                      ft__out_number(o, 0.79788456080286536f));
        y = ft__out_1(o, "Tanh", ft__out_name(o, node, "tanh"), y);
    } else {
        y = ft__out_2(o, "Div", ft__out_name(o, node, "scaled"), x,
                      ft__out_number(o, 1.4142135623730951f));
        y = ft__out_1(o, "Erf", ft__out_name(o, node, "erf"), y);
    }
    y = ft__out_2(o, "Add", ft__out_name(o, node, "plus"), y, ft__out_number(o, 1));
    y = ft__out_2(o, "Mul", ft__out_name(o, node, "times"), x, y);
    ft__out_2(o, "Mul", node->name, y, ft__out_number(o, 0.5f));
    return NULL;
}

/* x sigmoid(1.702 x) */
static const char *ft__out_quick_gelu(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *y;
    (void)op;
    y = ft__out_2(o, "Mul", ft__out_name(o, node, "scaled"), x, ft__out_number(o, 1.702f));
    y = ft__out_1(o, "Sigmoid", ft__out_name(o, node, "sigmoid"), y);
    ft__out_2(o, "Mul", node->name, x, y);
    return NULL;
}

/* x tanh(softplus(x)) */
static const char *ft__out_mish(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *y;
    (void)op;
    y = ft__out_1(o, "Softplus", ft__out_name(o, node, "softplus"), x);
    y = ft__out_1(o, "Tanh", ft__out_name(o, node, "tanh"), y);
    ft__out_2(o, "Mul", node->name, x, y);
    return NULL;
}

/* -softplus(-x) */
static const char *ft__out_logsigmoid(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *y = ft__out_1(o, "Neg", ft__out_name(o, node, "minus"), ft__out_x(o, node, 0));
    (void)op;
    y = ft__out_1(o, "Softplus", ft__out_name(o, node, "softplus"), y);
    ft__out_1(o, "Neg", node->name, y);
    return NULL;
}

/* x less what x is between -lambda and lambda; or less its tanh. */
static const char *ft__out_shrink(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0), *part = ft__out_name(o, node, "part");
    (void)op;
    if (node->op == FT__OP_tanhshrink) ft__out_1(o, "Tanh", part, x);
    else ft__out_clip(o, part, x, -ft__out_option(node), ft__out_option(node));
    ft__out_2(o, "Sub", node->name, x, part);
    return NULL;
}

static const char *ft__out_threshold(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_activation_options *a = &node->options.activation;
    const char *x = ft__out_x(o, node, 0), *above = ft__out_name(o, node, "above");
    (void)op;
    ft__out_2(o, "Greater", above, x, ft__out_number(o, a->threshold));
    ft__out_3(o, "Where", node->name, above, x, ft__out_number(o, a->value));
    return NULL;
}

/* The slopes of the channels stand at axis 1. */
static const char *ft__out_prelu(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *slopes = ft__out_x(o, node, 1);
    int size[FINETUNE_MAX_RANK], rank = ft__out_input(o, node, 0)->shape.rank - 1, d;
    size[0] = ft__out_input(o, node, 1)->shape.size[0];
    for (d = 1; d < rank; ++d) size[d] = 1;
    if (rank > 1 && size[0] > 1)
        slopes = ft__out_2(o, "Reshape", ft__out_name(o, node, "slopes"), slopes,
                           ft__out_list(o, size, rank));
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0), slopes);
    return NULL;
}

static const char *ft__out_softmax(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *x = ft__out_x(o, node, 0);
    if (node->op == FT__OP_softmin)
        x = ft__out_1(o, "Neg", ft__out_name(o, node, "minus"), x);
    ft__out_int(o, "axis", node->options.activation.axis ? node->options.activation.axis : -1);
    ft__out_1(o, op, node->name, x);
    return NULL;
}

/* a sigmoid(b), a and b the halves of an axis. */
static const char *ft__out_glu(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_shape *shape = &ft__out_input(o, node, 0)->shape;
    int axis = ft__axis_of(node, shape->rank), half = shape->size[axis] / 2;
    const char *x = ft__out_x(o, node, 0), *a, *b;
    (void)op;
    a = ft__out_cut(o, ft__out_name(o, node, "first"), x, axis, 0, half);
    b = ft__out_cut(o, ft__out_name(o, node, "second"), x, axis, half, shape->size[axis]);
    b = ft__out_1(o, "Sigmoid", ft__out_name(o, node, "gate"), b);
    ft__out_2(o, "Mul", node->name, a, b);
    return NULL;
}

/* ---- Arithmetic ---- */

static const char *ft__out_pow(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0),
              ft__out_number(o, node->options.unary.exponent));
    return NULL;
}

static const char *ft__out_affine(ft__onnx_out *o, const ft__node *node, const char *op)
{
    float scale = node->options.unary.scale, shift = node->options.unary.shift;
    bool scales = (scale < 1 && scale < 0) || (scale < 1 && scale > 0) || scale > 1;
    bool shifts = shift < 0 || shift > 0;
    const char *x = ft__out_x(o, node, 0);
    (void)op;
    if (scales || !shifts)
        x = ft__out_2(o, "Mul", shifts ? ft__out_name(o, node, "scaled") : node->name, x,
                      ft__out_number(o, scales ? scale : 1));
    if (shifts) ft__out_2(o, "Add", node->name, x, ft__out_number(o, shift));
    return NULL;
}

static const char *ft__out_cast_to(ft__onnx_out *o, const ft__node *node, const char *op)
{
    ft__out_cast(o, node->name, ft__out_x(o, node, 0),
                 strcmp(op, "int64") == 0 ? FT__ONNX_I64 : FT__ONNX_F32);
    return NULL;
}

/* A comparison is 1 or 0 here, not true or false. */
static const char *ft__out_compare(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *y = ft__out_name(o, node, "holds");
    ft__out_2(o, op, y, ft__out_x(o, node, 0), ft__out_x(o, node, 1));
    if (node->op == FT__OP_not_equal) y = ft__out_1(o, "Not", ft__out_name(o, node, "not"), y);
    ft__out_cast(o, node->name, y, FT__ONNX_F32);
    return NULL;
}

static const char *ft__out_where(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *holds = ft__out_cast(o, ft__out_name(o, node, "holds"), ft__out_x(o, node, 0),
                                     FT__ONNX_BOOL);
    ft__out_3(o, op, node->name, holds, ft__out_x(o, node, 1), ft__out_x(o, node, 2));
    return NULL;
}

static const char *ft__out_expand_as(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const char *shape = ft__out_1(o, "Shape", ft__out_name(o, node, "shape"),
                                  ft__out_x(o, node, 1));
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0), shape);
    return NULL;
}

/* Opset 17 has the axes of ReduceSum as an input, of the others as an attribute. */
static const char *ft__out_reduce(ft__onnx_out *o, const ft__node *node, const char *op)
{
    int rank = ft__out_input(o, node, 0)->shape.rank, axes[FINETUNE_MAX_RANK], count = 0, d;
    unsigned reduced = ft__reduced_axes(node, rank);
    bool keep = node->options.reduce.keep, one;
    const char *x = ft__out_x(o, node, 0), *y = node->name;
    for (d = 0; d < rank; ++d)
        if (reduced >> d & 1) axes[count++] = d;
    one = count == rank && !keep; /* one number is [1] here */
    if (one) y = ft__out_name(o, node, "number");
    if (strcmp(op, "ReduceSum") == 0) {
        ft__out_int(o, "keepdims", keep);
        ft__out_2(o, op, y, x, ft__out_list(o, axes, count));
    } else {
        ft__out_ints(o, "axes", axes, count);
        ft__out_int(o, "keepdims", keep);
        ft__out_1(o, op, y, x);
    }
    if (one) ft__out_2(o, "Reshape", node->name, y, ft__out_one(o, 1));
    return NULL;
}

static const char *ft__out_matmul(ft__onnx_out *o, const ft__node *node, const char *op)
{
    int axes[FINETUNE_MAX_RANK], i, d;
    const char *x[2];
    for (i = 0; i < 2; ++i) {
        int rank = ft__out_input(o, node, i)->shape.rank;
        bool turn = i ? node->options.matmul.transpose_b : node->options.matmul.transpose_a;
        x[i] = ft__out_x(o, node, i);
        if (!turn) continue;
        for (d = 0; d < rank; ++d) axes[d] = d;
        axes[rank - 2] = rank - 1;
        axes[rank - 1] = rank - 2;
        ft__out_ints(o, "perm", axes, rank);
        x[i] = ft__out_1(o, "Transpose", ft__out_name(o, node, i ? "b" : "a"), x[i]);
    }
    ft__out_2(o, op, node->name, x[0], x[1]);
    return NULL;
}

static const char *ft__out_cumsum(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_cumsum_options *a = &node->options.cumsum;
    const char *axis = ft__out_whole(o, ft__given_axis(a->axis,
                                                       ft__out_input(o, node, 0)->shape.rank));
    if (a->exclusive) ft__out_int(o, "exclusive", 1);
    if (a->reverse) ft__out_int(o, "reverse", 1);
    ft__out_2(o, op, node->name, ft__out_x(o, node, 0), axis);
    return NULL;
}

static const char *ft__out_topk(ft__onnx_out *o, const ft__node *node, const char *op)
{
    const ft_topk_options *a = &node->options.topk;
    int axis = ft__given_axis(a->axis, ft__out_input(o, node, 0)->shape.rank);
    const char *x[2], *y[2];
    if (a->drop_axis) {
        ft__out_int(o, "axis", axis);
        ft__out_int(o, "keepdims", 0);
        ft__out_1(o, a->smallest ? "ArgMin" : "ArgMax", node->name, ft__out_x(o, node, 0));
        return NULL;
    }
    x[0] = ft__out_x(o, node, 0);
    x[1] = ft__out_one(o, ft__topk_count(node));
    y[0] = ft__out_name(o, node, "values");
    y[1] = node->name;
    ft__out_int(o, "axis", axis);
    ft__out_int(o, "largest", !a->smallest);
    ft__out_node(o, op, x, 2, y, 2);
    return NULL;
}
#endif
