#pragma once
#include "interface/operators.h"

/* =============================================================================================
   [SECTION] nodes/operators: The list of operators
   ============================================================================================= */
/* The nodes that compute nothing: values come from outside. */
#define FT__LEAVES(X) X(none) X(input) X(parameter) X(buffer) X(constant) X(state)

/* The only list of operators: it gives the enum, the members of ft__options, the table of rows, the
   table of devices' rows, and what the tests and the "what runs where" listing walk through.
   X(NAME), or O(NAME) for one with options of its own, ft_NAME_options, means that there are
   ft__row_NAME, in the operator's part, and ft__cl_row_NAME, in devices/.

   To add an activation of single numbers (four places):
   1. In interface/operators a line of FINETUNE_MORE_ACTIVATION_LIST: its name, which is PyTorch's,
      formula and source.
   2. In operators/more_activations an FT__ACTIVATION: value and slope.
   3. In kernels.cl a line of FINETUNE_ACTIVATIONS.
   4. In tests/test_operators.c its formula, in activation().
   To add an operator with a kernel of its own (six):
   1. Its name, in the list below.
   2. In interface/operators its options and the function that builds it: shapes, formula, source.
   3. In its family's part of operators/: shape, forward, backward, fields, the row, below a comment
      "In files:", and that function.
   4. In kernels.cl its kernels.
   5. In devices/ what launches them, and its FT__DEVICE_ROW, with a sample.
   6. In tests/test_operators.c naive loops, and cases with PyTorch's expression (add_torch_case).
   Then these write the rest: INCLUDES=write sh tests/check_header.sh (includes, and in
   src/finetune.h a new part of operators/), make header
   (docs/networks.md, calls with NULL), and golden/make_cases.py (PyTorch's values). */
#define FT__OPERATORS(X, O)                                                                       \
    FT__BASIC_OPERATORS(X, O) FT__CONVOLUTION_OPERATORS(X, O) FT__RECURRENT_OPERATORS(X, O)       \
    FT__ATTENTION_OPERATORS(X, O) FT__ARITHMETIC_OPERATORS(X, O)
/* By the families that a build may leave out (platform/families). */
#define FT__BASIC_OPERATORS(X, O)                                                                 \
    FINETUNE_ACTIVATION_LIST(X) X(linear) X(flatten) X(reshape) X(add) X(mul) X(concat) O(pad)    \
    O(slice) O(dropout) O(embedding) O(step_pool) X(cross_entropy) X(soft_cross_entropy)          \
    X(binary_cross_entropy) X(mse) X(custom)
#define FT__CONVOLUTION_OPERATORS(X, O)                                                           \
    O(conv2d) X(conv1d) O(batch_norm) O(group_norm) X(max_pool2d) X(avg_pool2d)                   \
    X(global_avg_pool) X(global_max_pool)
#define FT__RECURRENT_OPERATORS(X, O) X(lstm) X(gru) X(rnn)
#define FT__ATTENTION_OPERATORS(X, O)                                                             \
    O(attention) O(layer_norm) O(rms_norm) O(rotary) O(add_positions) X(linear_cross_entropy)
#define FT__ARITHMETIC_OPERATORS(X, O)                                                            \
    X(sub) X(div) X(maximum) X(minimum) X(equal) X(not_equal) X(less) X(less_equal) X(greater)    \
    X(greater_equal) X(where) X(exp) X(log) X(sqrt) X(abs) X(neg) X(erf) X(pow) X(clamp)          \
    X(affine) X(detach) X(mean) X(sum) X(amax) X(permute) X(gather) O(matmul)                     \
    X(l1) X(smooth_l1) X(huber) X(focal) X(sigmoid_focal) X(hinge) X(ctc_loss) O(resize)          \
    O(conv_transpose2d) X(amin) X(prod) X(norm) X(logsumexp) O(tile) X(power) X(expand_as)        \
    X(floor) X(ceil) X(round) X(sign) X(to_i32) X(to_f32) O(cumsum) O(topk)                       \
    O(token_counts)                                                                               \
    FINETUNE_MORE_ACTIVATION_LIST(X)
