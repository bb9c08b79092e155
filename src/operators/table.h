#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] operators/table: The table of operators
   The only list of operators. A row: name; minimum and maximum number of inputs; what backward
   reads of them (X inputs, Y output) and what else it can do; and the functions:
       shape      checks the inputs and sets the output's shape
       forward    computes output.value from input[i].value
       backward   adds to input[i].gradient unless that is NULL; rows with FT__WRITES also honour
                  input[0].fresh; add, mul, matmul and layer_norm honour it for all inputs
       costs      bytes to keep from forward to backward, bytes of scratch, bytes of prepared
                  weights, multiply-adds
       fields     which of the options a model file keeps
   ============================================================================================= */
typedef struct ft__costs { size_t saved, workspace, prepared; uint64_t multiply_adds; } ft__costs;

/* FUSES: forward applies call->fused to its output. IN_PLACE: the first input's gradient may share
   memory with the output's. MASKS: backward computes from x where a fused relu or relu6 was flat,
   so that the output need not be kept. RESTORES: forward can run again from x and what it saved the
   first time, at about the price of a copy. */
enum {
    FT__READS_X = 1, FT__READS_Y = 2, FT__WRITES = 4, FT__FUSES = 8, FT__IN_PLACE = 16,
    FT__MASKS = 32, FT__RESTORES = 64,
    FT__OF_X = FT__READS_X | FT__WRITES | FT__IN_PLACE, /* activations whose slope is given by x */
    FT__OF_Y = FT__READS_Y | FT__WRITES | FT__IN_PLACE, /* ... by y */
    FT__LAYER = FT__READS_X | FT__WRITES | FT__FUSES    /* layers that apply activations */
};

/* X(name, minimum inputs, maximum inputs, what backward reads, shape, forward, backward, costs,
   fields, OpenCL entry: ft__cl_ENTRY_forward and _backward in devices/, or none) */
#define FT__OPERATORS(X)                                                                          \
    X(none, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                 \
    X(input, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                \
    X(parameter, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                            \
    X(buffer, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                               \
    X(state, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                \
    X(sigmoid, 1, 1, FT__OF_Y, ft__same_shape, ft__sigmoid_forward, ft__sigmoid_backward, NULL,   \
      ft__no_fields, activation)                                                                  \
    X(tanh, 1, 1, FT__OF_Y, ft__same_shape, ft__tanh_forward, ft__tanh_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(relu, 1, 1, FT__OF_Y, ft__same_shape, ft__relu_forward, ft__relu_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(relu6, 1, 1, FT__OF_Y, ft__same_shape, ft__relu6_forward, ft__relu6_backward, NULL,         \
      ft__no_fields, activation)                                                                  \
    X(leaky_relu, 1, 1, FT__OF_X, ft__same_shape, ft__leaky_relu_forward,                         \
      ft__leaky_relu_backward, NULL, ft__activation_fields, activation)                           \
    X(elu, 1, 1, FT__OF_X, ft__same_shape, ft__elu_forward, ft__elu_backward, NULL,               \
      ft__activation_fields, activation)                                                          \
    X(softplus, 1, 1, FT__OF_X, ft__same_shape, ft__softplus_forward, ft__softplus_backward,      \
      NULL, ft__no_fields, activation)                                                            \
    X(softsign, 1, 1, FT__OF_X, ft__same_shape, ft__softsign_forward, ft__softsign_backward,      \
      NULL, ft__no_fields, activation)                                                            \
    X(gelu, 1, 1, FT__OF_X, ft__same_shape, ft__gelu_forward, ft__gelu_backward, NULL,            \
      ft__activation_fields, activation)                                                          \
    X(silu, 1, 1, FT__OF_X, ft__same_shape, ft__silu_forward, ft__silu_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(softmax, 1, 1, FT__READS_Y, ft__softmax_shape, ft__softmax_forward, ft__softmax_backward,   \
      NULL, ft__activation_fields, softmax)                                                       \
    X(log_softmax, 1, 1, FT__READS_Y, ft__softmax_shape, ft__log_softmax_forward,                 \
      ft__log_softmax_backward, NULL, ft__activation_fields, log_softmax)                         \
    X(linear, 2, 3, FT__LAYER, ft__linear_shape, ft__linear_forward, ft__linear_backward,         \
      ft__linear_costs, ft__no_fields, linear)                                                    \
    X(conv2d, 2, 3, FT__LAYER, ft__conv2d_shape, ft__conv2d_forward, ft__conv2d_backward,         \
      ft__conv2d_costs, ft__conv2d_fields, conv2d)                                                \
    X(conv1d, 2, 3, FT__LAYER, ft__conv1d_shape, ft__conv1d_forward, ft__conv1d_backward,         \
      ft__conv1d_costs, ft__conv2d_fields, conv1d)                                                \
    X(batch_norm, 5, 5, FT__LAYER | FT__IN_PLACE | FT__MASKS | FT__RESTORES,                      \
      ft__batch_norm_shape, ft__batch_norm_forward, ft__batch_norm_backward,                      \
      ft__batch_norm_costs, ft__batch_norm_fields, batch_norm)                                    \
    X(layer_norm, 3, 3, FT__READS_X | FT__WRITES, ft__layer_norm_shape, ft__layer_norm_forward,   \
      ft__layer_norm_backward, ft__layer_norm_costs, ft__layer_norm_fields, layer_norm)           \
    X(max_pool2d, 1, 1, FT__WRITES, ft__pool2d_shape, ft__max_pool2d_forward,                     \
      ft__max_pool2d_backward, ft__max_pool2d_costs, ft__pool2d_fields, max_pool)                 \
    X(avg_pool2d, 1, 1, 0, ft__pool2d_shape, ft__avg_pool2d_forward, ft__avg_pool2d_backward,     \
      NULL, ft__pool2d_fields, avg_pool)                                                          \
    X(global_avg_pool, 1, 1, FT__WRITES, ft__global_pool_shape, ft__global_avg_pool_forward,      \
      ft__global_avg_pool_backward, NULL, ft__no_fields, avg_pool)                                \
    X(global_max_pool, 1, 1, FT__WRITES, ft__global_pool_shape, ft__global_max_pool_forward,      \
      ft__global_max_pool_backward, ft__global_max_pool_costs, ft__no_fields, max_pool)           \
    X(flatten, 1, 1, 0, ft__flatten_shape, ft__copy_forward, ft__copy_backward, NULL,             \
      ft__no_fields, reshape)                                                                     \
    X(reshape, 1, 1, 0, ft__reshape_shape, ft__copy_forward, ft__copy_backward, NULL,             \
      ft__reshape_fields, reshape)                                                                \
    X(add, 2, 2, FT__WRITES | FT__FUSES | FT__IN_PLACE, ft__broadcast_shape, ft__add_forward,     \
      ft__add_backward, NULL, ft__no_fields, broadcast)                                           \
    X(mul, 2, 2, FT__LAYER, ft__broadcast_shape, ft__mul_forward, ft__mul_backward, NULL,         \
      ft__no_fields, broadcast)                                                                   \
    X(concat, 1, INT_MAX, 0, ft__concat_shape, ft__concat_forward, ft__concat_backward, NULL,     \
      ft__concat_fields, concat)                                                                  \
    X(pad, 1, 1, 0, ft__pad_shape, ft__pad_forward, ft__pad_backward, NULL, ft__pad_fields,       \
      pad)                                                                                        \
    X(slice, 1, 1, 0, ft__slice_shape, ft__slice_forward, ft__slice_backward, NULL,               \
      ft__slice_fields, slice)                                                                    \
    X(permute, 1, 1, FT__WRITES, ft__permute_shape, ft__permute_forward, ft__permute_backward,    \
      NULL, ft__permute_fields, permute)                                                          \
    X(gather, 2, 2, 0, ft__gather_shape, ft__gather_along_forward, ft__gather_along_backward,     \
      NULL, ft__gather_fields, gather_along)                                                      \
    X(matmul, 2, 2, FT__READS_X | FT__WRITES, ft__matmul_shape, ft__matmul_forward,               \
      ft__matmul_backward, ft__matmul_costs, ft__matmul_fields, matmul)                           \
    X(dropout, 1, 1, 0, ft__same_shape, ft__dropout_forward, ft__dropout_backward, NULL,          \
      ft__dropout_fields, dropout)                                                                \
    X(embedding, 2, 2, FT__READS_X, ft__embedding_shape, ft__embedding_forward,                   \
      ft__embedding_backward, NULL, ft__embedding_fields, embedding)                              \
    X(step_pool, 1, 2, FT__READS_X, ft__step_pool_shape, ft__step_pool_forward,                   \
      ft__step_pool_backward, ft__step_pool_costs, ft__step_pool_fields, step_pool)               \
    X(lstm, 3, 12, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                       \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, recurrent)               \
    X(gru, 3, 11, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                        \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, recurrent)               \
    X(rnn, 3, 11, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                        \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, recurrent)               \
    X(cross_entropy, 2, 2, FT__READS_X, ft__cross_entropy_shape, ft__cross_entropy_forward,       \
      ft__cross_entropy_backward, ft__cross_entropy_costs, ft__loss_fields, entropy)              \
    X(soft_cross_entropy, 2, 2, FT__READS_X, ft__soft_cross_entropy_shape,                        \
      ft__soft_cross_entropy_forward, ft__soft_cross_entropy_backward,                            \
      ft__soft_cross_entropy_costs, ft__no_fields, entropy)                                       \
    X(binary_cross_entropy, 2, 2, FT__READS_X, ft__pair_loss_shape,                               \
      ft__binary_cross_entropy_forward, ft__binary_cross_entropy_backward, NULL, ft__no_fields,   \
      pair_loss)                                                                                  \
    X(mse, 2, 2, FT__READS_X, ft__pair_loss_shape, ft__mse_forward, ft__mse_backward, NULL,       \
      ft__no_fields, pair_loss)

#define FT__OP_ENUM(name, low, high, reads, shape, forward, backward, costs, fields, device)      \
    FT__OP_##name,
enum { FT__OPERATORS(FT__OP_ENUM) FT__OP_COUNT };

/* A shape rule sets the output's shape, with FT_BATCH where the inputs have it, or fails with a
   message that names the node. */
typedef ft_status (*ft__shape_rule)(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output);
typedef void (*ft__operator)(const ft__call *call);
typedef void (*ft__cost_rule)(const ft__call *call, ft__costs *costs);

typedef struct ft__row {
    const char *name;
    int least_inputs, most_inputs, reads;
    ft__shape_rule shape;
    ft__operator forward, backward;
    ft__cost_rule costs;        /* NULL: it keeps nothing and needs no scratch */
    const ft__field *fields;    /* ends with a NULL name */
} ft__row;

static const ft__field ft__no_fields[] = {{NULL, 0, 0, 0}};
