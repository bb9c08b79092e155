#pragma once
#include "interface/requirements.h"
#include "interface/types.h"

/* =============================================================================================
   [SECTION] interface/operators: Building a network: operators, their options and functions
   ============================================================================================= */
/* Each function returns the node of its result, {0} with an error.
   `name` must differ from all other nodes' names. It may be NULL, for a generated one, except for
   layers with parameters, which are called "<name>.weight" and so on. N is the batch. FT_SHAPE:
   shapes that do not fit. FT_INVALID: options that make no sense. The text names the layer. */

typedef struct ft_input_options {
    ft_type type; /* FT_F32 or FT_I32 */
    int size[FINETUNE_MAX_RANK - 1]; /* of one sample, e.g. {3, 224, 224}, or {FT_LENGTH, 64} with
                                        ft_set_length's number of steps; all zero: one number, so
                                        that the shape is [N], as labels have */
} ft_input_options;

/* An input: [N, size...] of float32, or of int32 for labels and token ids. */
FINETUNE_API ft_node ft_input(ft_model *m, const char *name, ft_input_options options);

typedef struct ft_parameter_options {
    int size[FINETUNE_MAX_RANK];
    ft_initialiser initialiser;
    int fan_in, fan_out; /* 0: from the shape, as for weights [out, in, ...] */
    bool buffer;         /* saved but never trained, like running_mean */
    bool transposed;     /* two sizes, [rows, columns]: in files of weights it is [columns, rows] */
} ft_parameter_options;

/* A tensor without a batch that is trained, or kept as a buffer. Its first values are drawn from
   the model's seed and its name; weights are loaded into it by its name. */
FINETUNE_API ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options);

/* A tensor of `rank` sizes without a batch, of these values, which are copied; rank 0: one number,
   shape [1]. It is never trained or drawn, and is saved in model files. Files of weights need not
   have it. */
FINETUNE_API ft_node ft_constant(ft_model *m, const char *name, int rank, const int *size,
                                 const float *values);

/* Pairs are height, width; a second value of 0 means "same as the first".
   Padding: {p} is p on all four sides, otherwise top, left, bottom, right. */
typedef struct ft_conv2d_options {
    int kernel[2];          /* required */
    int stride[2];          /* default 1 */
    int padding[4];         /* default 0 */
    int dilation[2];        /* default 1 */
    int groups;             /* default 1; in_channels groups make a depthwise convolution */
    bool same;              /* TensorFlow's SAME: output = ceil(input / stride), the odd row and
                               column of padding at the bottom and right; padding is ignored */
    bool no_bias;
    ft_node weight, bias;   /* use these nodes instead of making "<name>.weight" and ".bias" */
    ft_initialiser initialiser;
} ft_conv2d_options;

/* x [N, C, H, W] -> [N, out_channels, H', W'], H' = (H + padding - dilation*(kernel-1) - 1)/stride
   + 1, rounded down, with the padding of both sides; W' likewise. "<name>.weight" is
   [out_channels, C/groups, kernel, kernel], ".bias" [out_channels]. It is a cross-correlation, as
   in other libraries. */
FINETUNE_API ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv2d_options options);

typedef struct ft_conv1d_options {
    int kernel;             /* required */
    int stride;             /* default 1 */
    int padding[2];         /* {p} is p on both sides, otherwise before, after */
    int dilation;           /* default 1 */
    int groups;             /* default 1 */
    bool same;              /* output length = ceil(input / stride), as in ft_conv2d_options */
    bool causal;            /* pads only before, so that no step sees a later one */
    bool no_bias;
    ft_node weight, bias;   /* as in ft_conv2d_options; weight is [out, in / groups, kernel] */
    ft_initialiser initialiser;
} ft_conv1d_options;

/* x [N, C, L] -> [N, out_channels, L'], like conv2d with a height of 1; weight
   [out_channels, C/groups, kernel]. L may be FT_LENGTH if L' is the same: stride 1, and padding
   that adds up to dilation * (kernel - 1). Steps after a sample's length are used as they are. */
FINETUNE_API ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv1d_options options);

typedef struct ft_conv_transpose2d_options {
    int kernel[2];          /* required */
    int stride[2];          /* default 1 */
    int padding[4];         /* default 0: rows and columns that are cut off the result */
    int output_padding[2];  /* rows at the bottom and columns at the right more; below the stride */
    int dilation[2];        /* default 1 */
    int groups;             /* default 1 */
    bool same;              /* TensorFlow's SAME: output = input times stride; padding is ignored */
    bool no_bias;
    ft_node weight, bias;   /* as in ft_conv2d_options; weight is [in, out / groups, kernel,
                               kernel] */
    ft_initialiser initialiser;
} ft_conv_transpose2d_options;

/* x [N, C, H, W] -> [N, out_channels, H', W'], H' = (H - 1) stride - padding + dilation (kernel -
   1) + output_padding + 1, with the padding of both sides; W' likewise: the gradient of ft_conv2d
   with respect to its input, as PyTorch's ConvTranspose2d. "<name>.weight" is [C, out_channels /
   groups, kernel, kernel], ".bias" [out_channels]. One dimension, [N, C, L], is ft_reshape to [N,
   C, 1, L] and a kernel of {1, k}. Zeiler et al. 2010. */
FINETUNE_API ft_node ft_conv_transpose2d(ft_model *m, const char *name, ft_node x,
                                         int out_channels, ft_conv_transpose2d_options options);

typedef struct ft_linear_options {
    bool no_bias;
    ft_node weight, bias;   /* as in ft_conv2d_options; weight is [out, in] */
    ft_initialiser initialiser;
    bool transposed;        /* in files of weights the weight is [in, out], as GPT-2's are */
} ft_linear_options;

/* x [..., in] -> [..., out_features]: y = x weight^T + bias; "<name>.weight" is [out_features, in],
   ".bias" [out_features]. */
FINETUNE_API ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                               ft_linear_options options);

typedef struct ft_batch_norm_options {
    float eps;              /* default 1e-5 */
    float momentum;         /* default 0.1: running = 0.9 * running + 0.1 * batch. running_var gets
                               the unbiased variance, as in PyTorch */
} ft_batch_norm_options;

/* x [N, C] or [N, C, H, W]: y = (x - mean) / sqrt(var + eps) * weight + bias per channel. Training
   uses the batch's mean and (biased) variance; evaluation, or a frozen layer, the running ones.
   "<name>.weight" and ".bias" are trained, ".running_mean" and ".running_var" are buffers, all [C].
   Ioffe and Szegedy 2015. */
FINETUNE_API ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x,
                                   ft_batch_norm_options options);

typedef struct ft_layer_norm_options {
    float eps;              /* default 1e-5 */
} ft_layer_norm_options;

/* x [..., D], at least 2 dimensions: y = (x - mean) / sqrt(var + eps) * weight + bias over each row
   of D; "<name>.weight" and ".bias" are [D]. Ba, Kiros and Hinton 2016. */
FINETUNE_API ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x,
                                   ft_layer_norm_options options);

typedef struct ft_rms_norm_options {
    float eps;              /* default 1.1920929e-7, as in PyTorch */
    int size;               /* of a row; must divide x's last size; default: all of it */
} ft_rms_norm_options;

/* y = x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich 2019), as
   PyTorch's RMSNorm; or, with options.size, over each `size` neighbouring numbers of it by one
   weight: over each head of [N, L, heads * size]. Makes "<name>.weight" [size]. */
FINETUNE_API ft_node ft_rms_norm(ft_model *m, const char *name, ft_node x,
                                 ft_rms_norm_options options);

typedef struct ft_group_norm_options {
    int groups;             /* must divide the channels; default 32. As many as channels: instance
                               norm (Ulyanov et al. 2016) */
    float eps;              /* default 1e-5 */
    bool no_affine;         /* without weight and bias */
} ft_group_norm_options;

/* x [N, C], [N, C, L] or [N, C, H, W]: y = (x - mean) / sqrt(var + eps) * weight + bias, mean and
   (biased) variance over each sample's group of C / groups adjacent channels; "<name>.weight" and
   ".bias" are [C]. The same in training and evaluation. Wu and He 2018. */
FINETUNE_API ft_node ft_group_norm(ft_model *m, const char *name, ft_node x,
                                   ft_group_norm_options options);

typedef struct ft_pool2d_options {
    int kernel[2];          /* required */
    int stride[2];          /* default: the kernel */
    int padding[4];         /* default 0 */
    bool same;              /* as in ft_conv2d_options */
    bool ceil_mode;         /* keep a last window that starts inside but ends outside */
    bool exclude_padding;   /* average only: divide by the number of pixels inside, as Keras does
                               and as `same` does; otherwise padding counts as zeros (PyTorch) */
} ft_pool2d_options;

/* x [N, C, H, W] -> [N, C, H', W'], sizes as in conv2d: the maximum, or the mean, of each window.
   Padding is never the maximum. */
FINETUNE_API ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
FINETUNE_API ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
/* x [N, C, H, W] -> [N, C, 1, 1]: the mean, or the maximum, of each channel. */
FINETUNE_API ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x);
FINETUNE_API ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x);
FINETUNE_API ft_node ft_flatten(ft_model *m, const char *name, ft_node x); /* [N, rest] */
/* `size` is a sample's shape, without the batch; one size may be -1: the rest. */
FINETUNE_API ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank,
                                const int *size);
/* a + b, a * b, element by element. In both a size of 1, or a missing leading dimension, is
   repeated, as in PyTorch: [N, C] and [C] give [N, C]; [N, 1] and [N] give [N, N]. */
FINETUNE_API ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b);
FINETUNE_API ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b);
/* A function of two nodes, element by element; shapes as in ft_add. `kind` is "add", "mul", or
     "sub"      a - b                      "div"      a / b
     "maximum"  the larger, NaN if either is; of equal numbers each gets half of the gradient
     "minimum"  the smaller, likewise
     "power"    a to the power of b; NaN for a < 0 unless b is whole
     "expand_as"  a, repeated to the shape of both: of b only the shape is used
     "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"
                a compared with b: 1 if it is so, else 0, without a gradient */
FINETUNE_API ft_node ft_binary(ft_model *m, const char *kind, const char *name, ft_node a,
                               ft_node b);

typedef struct ft_unary_options { /* for ft_unary */
    float scale, shift;     /* "affine": x times scale, plus shift; a scale of 0 means 1 */
    float exponent;         /* "pow": required */
    float min, max;         /* "clamp": required; -INFINITY or INFINITY: no bound on that side */
} ft_unary_options;

/* A function of one node, element by element; y has x's shape. `kind` is one of
     "exp", "log", "sqrt", "abs", "neg", "erf"
     "floor", "ceil", "round", "sign"  without a gradient; round takes halves to the even number
     "to_i32"  x as integers, rounded toward 0, for ft_gather and ft_embedding; without a gradient
     "to_f32"  of integers, floats
     "pow"     x to the power of options.exponent, which must not be 0; NaN for x < 0 unless the
               exponent is whole
     "clamp"   min(max(x, options.min), options.max); the slope at a bound is 0
     "affine"  options.scale * x + options.shift: constants without nodes of their own
     "detach"  x; no gradient passes through it (stop_gradient)
   Slopes are PyTorch's: that of abs is 0 at 0, those of log and sqrt are infinite there. FT_INVALID
   for options that the kind does not have. */
FINETUNE_API ft_node ft_unary(ft_model *m, const char *kind, const char *name, ft_node x,
                              ft_unary_options options);

typedef struct ft_reduce_options {
    int axes[FINETUNE_MAX_RANK]; /* the dimensions to reduce: 0 is the batch, -1 the last one ... */
    int count;              /* ... and how many they are; 0: all, which gives one number */
    bool keep;              /* keep them, with a size of 1 */
} ft_reduce_options;

/* Reduces dimensions of x; without options all of them, to one number, shape [1], which can be a
   loss. `kind` is one of
     "mean", "sum", "prod"
     "amax", "amin"  the maximum and minimum: equal ones share the gradient, as in PyTorch's amax
     "norm"          sqrt(sum(x^2)); the slope of 0 is 0
     "logsumexp"     log(sum(exp(x))), without overflow
   The sums of |x| and x^2 are "sum" of ft_unary's "abs", and of ft_mul(x, x). Over the batch (axis
   0) the number depends on all samples of a run. All steps of FT_LENGTH count, padding too:
   ft_step_pool leaves it out. */
FINETUNE_API ft_node ft_reduce(ft_model *m, const char *kind, const char *name, ft_node x,
                               ft_reduce_options options);
/* a where the condition is not 0, else b; the shapes are broadcast as in ft_add. The condition gets
   no gradient. */
FINETUNE_API ft_node ft_where(ft_model *m, const char *name, ft_node condition, ft_node a,
                              ft_node b);
/* Joins tensors along `axis` >= 1; their other sizes must be equal. */
FINETUNE_API ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x,
                               int axis);

typedef enum ft_resize_mode { FT_RESIZE_NEAREST, FT_RESIZE_LINEAR } ft_resize_mode;

typedef enum ft_resize_coordinates { /* the place in x of y's number i, by ONNX's names */
    FT_RESIZE_DEFAULT,          /* half_pixel if linear, else asymmetric, as in PyTorch */
    FT_RESIZE_HALF_PIXEL,       /* (i + 0.5) / scale - 0.5 */
    FT_RESIZE_ASYMMETRIC,       /* i / scale */
    FT_RESIZE_ALIGN_CORNERS,    /* i times (size of x - 1) / (size of y - 1) */
    FT_RESIZE_PYTORCH_HALF_PIXEL /* as half_pixel; 0 if y has a size of 1 */
} ft_resize_coordinates;

typedef enum ft_resize_rounding { /* of that place, if nearest */
    FT_RESIZE_FLOOR,            /* as in PyTorch */
    FT_RESIZE_CEIL,
    FT_RESIZE_PREFER_FLOOR,     /* to the nearest; a half is rounded down */
    FT_RESIZE_PREFER_CEIL       /* ... or up; with half_pixel it is PyTorch's nearest-exact */
} ft_resize_rounding;

typedef struct ft_resize_options {
    int size[2];            /* of y; default: the size of x times scale, rounded down */
    float scale[2];         /* default: the size of y / the size of x */
    ft_resize_mode mode;
    ft_resize_coordinates coordinates;
    ft_resize_rounding rounding; /* nearest only */
} ft_resize_options;

/* x [N, C, H, W] or [N, C, L] -> the same with other H and W, or L: the nearest number of x, or the
   linear interpolation (bilinear in two dimensions) of its neighbours, without antialiasing, as
   PyTorch's interpolate and ONNX's Resize. Places outside x have the value at its edge. One of size
   and scale is required; given both, size is that of y, and scale relates its places to those of x.
   L must not be FT_LENGTH. */
FINETUNE_API ft_node ft_resize(ft_model *m, const char *name, ft_node x, ft_resize_options options);

typedef enum ft_pad_mode { /* what is added, by PyTorch's names */
    FT_PAD_CONSTANT,        /* `value` */
    FT_PAD_REFLECT,         /* x mirrored at its first and last number, which are not repeated */
    FT_PAD_REPLICATE,       /* its first or last number: ONNX's edge */
    FT_PAD_CIRCULAR         /* x again: ONNX's wrap */
} ft_pad_mode;

typedef struct ft_pad_options {
    int before[FINETUNE_MAX_RANK], after[FINETUNE_MAX_RANK]; /* numbers to add, per dimension */
    ft_pad_mode mode;
    float value;            /* FT_PAD_CONSTANT only; default 0 */
} ft_pad_options;

typedef struct ft_slice_options { /* x[start:stop:step] in every dimension but the batch */
    int start[FINETUNE_MAX_RANK];
    int stop[FINETUNE_MAX_RANK];  /* 0: to the end */
    int step[FINETUNE_MAX_RANK];  /* default 1 */
} ft_slice_options;

/* Adds numbers around x; not along the batch or FT_LENGTH. The numbers added by FT_PAD_REFLECT are
   fewer than x has along a dimension, those by FT_PAD_CIRCULAR at most as many. */
FINETUNE_API ft_node ft_pad(ft_model *m, const char *name, ft_node x, ft_pad_options options);
FINETUNE_API ft_node ft_slice(ft_model *m, const char *name, ft_node x, ft_slice_options options);

typedef struct ft_tile_options {
    int repeats[FINETUNE_MAX_RANK]; /* per dimension; default 1 */
} ft_tile_options;

/* x several times side by side along dimensions after the batch that are not FT_LENGTH, as
   PyTorch's tile. To repeat it to the shape of another node, also along the batch, see ft_binary's
   "expand_as". */
FINETUNE_API ft_node ft_tile(ft_model *m, const char *name, ft_node x, ft_tile_options options);
/* y's dimension d is x's dimension axes[d], for all `rank` dimensions of x; axes[0] must be 0: the
   batch stays first. This is PyTorch's permute, and its transpose if two axes are exchanged. */
FINETUNE_API ft_node ft_permute(ft_model *m, const char *name, ft_node x, int rank,
                                const int *axes);
/* Takes elements along `axis` >= 1 by index: y[n, k, ...] = x[n, index[n, k], ...] for axis 1.
   `index` is I32 and has x's sizes except along that axis, as in PyTorch's gather. Or it has fewer
   dimensions, and x's last ones are copied whole: [N, K] takes K rows of x [N, T, D]. Or it is [K],
   without a batch: the same K of every sample, as PyTorch's index_select. An index outside x gives
   NaN. */
FINETUNE_API ft_node ft_gather(ft_model *m, const char *name, ft_node x, ft_node index, int axis);

typedef struct ft_topk_options {
    int count;              /* k; default 1. Along FT_LENGTH only 1 */
    int axis;               /* from 1, or back from -1; default: the last */
    bool smallest;          /* the smallest ones */
    bool drop_axis;         /* with a count of 1: y has no such axis: argmax, or argmin */
} ft_topk_options;

/* The places, I32, of the k largest numbers along an axis, the largest first, of equal ones the
   first: x [N, C] -> [N, k]. NaN counts as the largest. There is no gradient; ft_gather along the
   same axis takes the numbers at these places, and has one. PyTorch's topk, argsort and, with
   drop_axis, argmax. */
FINETUNE_API ft_node ft_topk(ft_model *m, const char *name, ft_node x, ft_topk_options options);

typedef struct ft_cumsum_options {
    int axis;               /* from 1, or back from -1; default: the last */
    bool exclusive;         /* without the number itself */
    bool reverse;           /* from the end */
} ft_cumsum_options;

/* The sum of each number and those before it along an axis. */
FINETUNE_API ft_node ft_cumsum(ft_model *m, const char *name, ft_node x,
                               ft_cumsum_options options);

typedef struct ft_token_counts_options {
    int words;              /* tokens are 0 to words - 1 */
} ft_token_counts_options;

/* How often each word is among a text's tokens: tokens I32 [N, L], lengths I32 [N], the real steps,
   or {0}: all -> [N, words]. A token of -1 is no word; any other that is none makes the text's
   counts NaN. There is no gradient. */
FINETUNE_API ft_node ft_token_counts(ft_model *m, const char *name, ft_node tokens,
                                     ft_node lengths, ft_token_counts_options options);

typedef struct ft_matmul_options {
    bool transpose_a, transpose_b; /* exchange its last two dimensions */
} ft_matmul_options;

/* a [N, .., M, K] b [N, .., K, P] -> [N, .., M, P]: a matrix product for each index of the other
   dimensions, which are the same in both. Of two dimensions the batch is one like others: a [N, D]
   with b [N, D] transposed gives [N, N], as contrastive losses want it. */
FINETUNE_API ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b,
                               ft_matmul_options options);

typedef struct ft_attention_options {
    int heads;              /* must divide the last size of q; default 1 */
    int key_value_heads;    /* of k and v; must divide heads; default: heads */
    float scale;            /* default 1 / sqrt(size of a head) */
    bool causal;            /* no query sees a key of a later step */
    ft_node lengths;        /* I32 [N]: later steps of q, k and v are padding; default: none is */
    bool all_queries;       /* lengths are of k and v only: all steps of q are real */
    ft_node positions;      /* I32 [N, L]: a sample holds several documents, and this is each step's
                               place in its own, from 0. No query sees a key of another document;
                               needs causal */
    float dropout;          /* in training, unless frozen: this share of the softmax's numbers is
                               0, the others are divided by 1 - dropout, as in PyTorch. On a GPU
                               the processor computes it */
} ft_attention_options;

/* Scaled dot-product attention, softmax(scale q k^T) v for each sample and head (Vaswani et al.
   2017), as PyTorch's scaled_dot_product_attention. q [N, T, heads * D], k [N, S, key_value_heads *
   D], v [N, S, key_value_heads * E] -> [N, T, heads * E]: a step's heads lie side by side, as
   ft_linear makes and reads them, and each head of k and v serves heads / key_value_heads
   neighbouring ones of q. T and S may be FT_LENGTH. causal: query t sees keys 0 to t + S - T, with
   the sample's own numbers of steps. Padded keys are not seen; a padded query, and one that sees no
   key, gives zeros. The scores are never kept: memory is linear in T and S. If k and v are {0}, q
   holds all three side by side in each step, [N, T, (heads + 2 key_value_heads) * D], as one linear
   layer of ViT's and GPT-2's makes them: it is read in place. */
FINETUNE_API ft_node ft_attention(ft_model *m, const char *name, ft_node q, ft_node k, ft_node v,
                                  ft_attention_options options);
/* Rotary positions (Su et al. 2021) for attention's q and k: x [N, L, heads * D] -> the same shape.
   In each head pair i of `dimensions` numbers turns by position * base^(-2 i / dimensions). */
FINETUNE_API ft_node ft_rotary(ft_model *m, const char *name, ft_node x,
                               ft_rotary_options options);

typedef struct ft_add_positions_options {
    int first;              /* of step 0; default 0 */
    bool sinusoidal;        /* "<name>.weight" is a constant: sines and cosines (Vaswani et al.
                               2017); default: a parameter drawn from N(0, 1), as in ft_embedding */
    ft_node weight;         /* [positions, features]; default: made here */
    ft_node positions;      /* I32 [N, L]; default first, first + 1, ... */
} ft_add_positions_options;

/* x [N, L, features] -> x plus, at each step, its position's row of "<name>.weight" [positions,
   features]. L may be FT_LENGTH. A position that is not in [0, positions) gives NaN. */
FINETUNE_API ft_node ft_add_positions(ft_model *m, const char *name, ft_node x, int positions,
                                      ft_add_positions_options options);

typedef struct ft_embedding_options {
    int padding_index;      /* if `padded`: this word starts as zeros and gets no gradient */
    bool padded;
    ft_node weight;         /* use this node [words, features] instead of making one */
} ft_embedding_options;

/* ids I32 [N] or [N, L] -> [N, features] or [N, L, features]: rows of "<name>.weight" [words,
   features], initially drawn from N(0, 1) as in PyTorch. An id of -1 gives zeros. */
FINETUNE_API ft_node ft_embedding(ft_model *m, const char *name, ft_node ids, int words,
                                  int features, ft_embedding_options options);

/* For ft_lstm, ft_gru and ft_rnn. */
typedef struct ft_recurrent_options {
    int layers;             /* default 1 */
    bool bidirectional;
    bool no_bias;
    bool relu;              /* ft_rnn: relu instead of tanh */
    float dropout;          /* between layers, not after the last; default 0 */
    bool locked;            /* one dropout mask for all steps (Gal and Ghahramani 2016) */
    float weight_drop;      /* dropout of weight_hh (Merity et al. 2017); default 0 */
    bool carry;             /* a batch continues where the previous one ended: the model keeps the
                               state as "<name>.hidden_l0" and so on, until ft_reset_state */
    ft_node lengths;        /* I32 [N]: later steps are padding; default: all steps are real */
    ft_node hidden, cell;   /* initial states [N, layers * directions * features]; default: zeros.
                               Order: layer 0 forward, layer 0 reverse, layer 1 ... */
    bool final_states;      /* makes nodes of the last states, in the same order: "<name>.h_n" and,
                               for ft_lstm, "<name>.c_n"; ft_find returns them */
    bool reset_before;      /* ft_gru: n = tanh(W x + U (r * h) + b), as in Cho et al. 2014, ONNX's
                               linear_before_reset 0 and Keras' reset_after=False; default:
                               PyTorch's n = tanh(W x + b_ih + r * (U h + b_hh)) */
} ft_recurrent_options;

/* x [N, L, in] -> [N, L, directions * hidden]: the last layer's output at every step, forward and
   reverse side by side. Parameters are PyTorch's: "<name>.weight_ih_l0" [4 * hidden, in] (gates i,
   f, g, o), "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse" ..., drawn from
   U(-b, b), b = 1/sqrt(hidden). Lower layers are nodes "<name>_l0" and so on, so that each can be
   frozen. options.final_states adds PyTorch's h_n and c_n, "<name>.h_n" and "<name>.c_n" [N, layers
   * directions * hidden]: the states after each sample's last real step, or in reverse after its
   first one; zeros for a sample without a real step. They can be another layer's initial states,
   or be trained on. A carried state is "<name>.hidden_l0" [N, directions * hidden] and
   "<name>.cell_l0". Hochreiter and Schmidhuber 1997. */
FINETUNE_API ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden,
                             ft_recurrent_options options);
/* The same with gates r, z, n (Cho et al. 2014, in PyTorch's form unless options.reset_before):
   h' = (1 - z) * n + z * h; and without gates: tanh. */
FINETUNE_API ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);
FINETUNE_API ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);

typedef struct ft_step_pool_options {
    ft_step_pooling kind;
    bool bidirectional;     /* FT_POOL_LAST: the second half of the features is from a reversed RNN,
                               whose last step is the first one */
} ft_step_pool_options;

/* x [N, L, C] -> [N, C]: the last, the mean, the maximum or the first of the real steps; or
   [N, 3 C]: last, maximum and mean, from the nodes "<name>_last", "<name>_max" and "<name>_mean"
   (Howard and Ruder 2018). lengths is I32 [N], or {0}: all steps are real. */
FINETUNE_API ft_node ft_step_pool(ft_model *m, const char *name, ft_node x, ft_node lengths,
                                  ft_step_pool_options options);

typedef struct ft_dropout_options {
    float probability;      /* that a number becomes zero; default 0.5 */
    bool locked;            /* one mask for all of dimension 1: the steps of [N, L, C] (Gal and
                               Ghahramani 2016), or a word's features in a weight [V, E] */
    bool per_sample;        /* one draw for each index of dimension 0: a sample is zero as a whole
                               or kept as a whole. On a residual's branch: stochastic depth, also
                               called DropPath (Huang et al. 2016) */
} ft_dropout_options;

/* Zero with probability p, else x / (1 - p); in evaluation, or if frozen, x itself (Srivastava et
   al. 2014). The seed, the step and the position determine which elements are zero. Applied to a
   weight it is weight drop or, locked, embedding dropout (Merity et al. 2017): pass its node as the
   layer's weight. */
FINETUNE_API ft_node ft_dropout(ft_model *m, const char *name, ft_node x,
                                ft_dropout_options options);

typedef struct ft_view { /* a tensor of a run, for ft_custom */
    ft_shape shape;         /* with the run's batch and length */
    ft_type type;           /* FT_F32; of some inputs FT_I32, whose int32_t lie at values */
    float *values;          /* row by row, as users see them; those of inputs are read only */
    float *gradient;        /* in backward; NULL: nobody needs it */
} ft_view;

typedef struct ft_custom_options {
    /* Sets the output's shape; sizes may be FT_BATCH and FT_LENGTH. false: the inputs do not fit.
       NULL: the shape is that of the first input. */
    bool (*shape)(void *user, const ft_shape *inputs, int count, ft_shape *output);
    /* Required: computes output->values. */
    void (*forward)(void *user, const ft_view *inputs, int count, const ft_view *output);
    /* Adds to inputs[i].gradient, unless it is NULL, what follows from output->gradient; the values
       are there too. NULL: the inputs get no gradient. */
    void (*backward)(void *user, const ft_view *inputs, int count, const ft_view *output);
    void *user;             /* must stay valid as long as the model */
} ft_custom_options;

/* An operator of your own, of 1 to 16 inputs: its functions run on the thread that called
   ft_forward, ft_fit and so on. With a memory budget forward may run twice in a step, and must give
   the same. In models of ft_share they run on those models' threads. ft_save refuses a network with
   one, except with weights_only; so do checkpoints. Where it is frozen, a sample's result must
   depend on that sample alone. */
FINETUNE_API ft_node ft_custom(ft_model *m, const char *name, const ft_node *inputs, int count,
                               ft_custom_options options);

typedef struct ft_activation_options {
    float slope;            /* leaky_relu: default 0.01 */
    float alpha;            /* elu, celu: default 1 */
    int axis;               /* softmax, log_softmax, softmin, glu: 0 is the last axis, 1 the
                               channels */
    bool tanh_approximation;/* gelu */
    float min, max;         /* hardtanh: both 0: -1 and 1 */
    float threshold, value; /* threshold */
    float lambda;           /* softshrink: default 0.5 */
    bool per_channel;       /* prelu: a slope for each channel, not one for all */
} ft_activation_options;

/* The kinds of ft_activation, by their names in text ("relu"). */
#define FINETUNE_ACTIVATION_LIST(X)                                                               \
    X(sigmoid)     /* 1 / (1 + exp(-x)) */                                                        \
    X(tanh)        /* (exp(2x) - 1) / (exp(2x) + 1) */                                            \
    X(relu)        /* max(x, 0): Nair and Hinton 2010 */                                          \
    X(relu6)       /* min(max(x, 0), 6): Krizhevsky 2010 */                                       \
    X(leaky_relu)  /* x, or slope * x below 0: Maas et al. 2013 */                                \
    X(elu)         /* x, or alpha * (exp(x) - 1) below 0: Clevert et al. 2016 */                  \
    X(softplus)    /* log(1 + exp(x)): Dugas et al. 2001 */                                       \
    X(softsign)    /* x / (1 + |x|): Bergstra et al. 2009 */                                      \
    X(gelu)        /* x * Phi(x), Phi of the normal distribution: Hendrycks and Gimpel 2016 */    \
    X(silu)        /* x * sigmoid(x): Elfwing et al. 2017 */                                      \
    X(mish)        /* x * tanh(log(1 + exp(x))): Misra 2019 */                                    \
    X(softmax)     /* exp(x) / sum of exp(x) over an axis: Bridle 1990 */                         \
    X(log_softmax) /* log(softmax(x)) */
/* The same of the family ARITHMETIC. */
#define FINETUNE_MORE_ACTIVATION_LIST(X)                                                          \
    X(selu)        /* 1.0507 (x, or 1.6733 (exp(x) - 1) below 0): Klambauer et al. 2017 */        \
    X(celu)        /* x, or alpha * (exp(x / alpha) - 1) below 0: Barron 2017 */                  \
    X(hardsigmoid) /* min(max(x + 3, 0), 6) / 6: Howard et al. 2019 */                            \
    X(hardswish)   /* x * hardsigmoid(x): Howard et al. 2019 */                                   \
    X(hardtanh)    /* min(max(x, options.min), options.max) */                                    \
    X(threshold)   /* x, or options.value where x <= options.threshold */                         \
    X(logsigmoid)  /* log(sigmoid(x)) */                                                          \
    X(softshrink)  /* x - lambda above lambda, x + lambda below -lambda, 0 between */             \
    X(tanhshrink)  /* x - tanh(x) */                                                              \
    X(quick_gelu)  /* x * sigmoid(1.702 x): CLIP's form of GELU */                                \
    X(softmin)     /* softmax(-x) */                                                              \
    X(prelu)       /* x, or weight * x below 0: He et al. 2015 */                                 \
    X(glu)         /* a * sigmoid(b), a and b the halves of x: Dauphin et al. 2017 */

/* Applies an activation to each element; y has x's shape, with glu half of it along options.axis.
   `kind` is one of FINETUNE_ACTIVATION_LIST and FINETUNE_MORE_ACTIVATION_LIST. prelu has trained
   slopes, "<name>.weight", so that `name` must be given: one number or, with options.per_channel,
   one for each channel (dimension 1), at first 0.25. FT_INVALID for options.min, max, threshold,
   value, lambda or per_channel of another kind. */
FINETUNE_API ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                                   ft_activation_options options);
/* The kinds that ft_activation knows, by index from 0; NULL behind the last one. */
FINETUNE_API const char *ft_activation_kind(int index);

typedef struct ft_loss_options {
    float label_smoothing;  /* s in [0, 1], default 0. The target is 1 - s for the label, plus
                               s / classes for every class (Szegedy et al. 2016) */
    /* Each for some kinds of ft_loss_by_kind, ft_embedding_loss and ft_distillation: */
    float beta, delta;      /* smooth_l1, huber: default 1 */
    float gamma;            /* focal, sigmoid_focal: default 2 */
    float alpha;            /* sigmoid_focal: default 0.25, negative: none; distillation: the share
                               of the teacher's probabilities, default 0.5 */
    float margin;           /* hinge, contrastive, triplet: default 1; cosine: 0 */
    float smooth;           /* dice: added above and below; default 1 */
    float temperature;      /* distillation: default 2 */
    ft_node positive_weight;/* binary_cross_entropy: [classes], factors of the terms of t; PyTorch's
                               pos_weight */
    int blank;              /* ctc_loss: the class of no label; default 0 */
    bool zero_infinity;     /* ctc_loss: a sample whose labels do not fit into its steps has loss 0
                               and no gradient, instead of an infinite loss */
    ft_node lengths;        /* ctc_loss: I32 [N], the real steps of each sample's logits; default:
                               all are */
} ft_loss_options;

/* Losses: one number, shape [1], as in PyTorch with reduction="mean". They take logits, not
   probabilities, so that large ones are exact. If a batch has nothing to average, the loss is NaN.
   Cross-entropy, -log(softmax(logits)[label]): logits [N, classes] and labels [N], or [N, L,
   classes] and [N, L]. Labels of -1 (padding) and -100 (PyTorch's ignore_index) are left out of the
   mean. Any other label that is not a class makes the loss NaN, and the run FT_NOT_FINITE. */
FINETUNE_API ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                      ft_node labels /* I32 */, ft_loss_options options);
/* The same of the linear layer x weight^T + bias, x [N, D] or [N, L, D], weight [classes, D], bias
   [classes] or {0}: a language model's last layer. The logits are made for some labels at a time,
   for those that count only, and never kept; backward makes them again. */
FINETUNE_API ft_node ft_linear_cross_entropy(ft_model *m, const char *name, ft_node x,
                                             ft_node weight, ft_node bias,
                                             ft_node labels /* I32 */, ft_loss_options options);
/* ft_cross_entropy with probabilities as targets, -sum(target * log(softmax(logits))): the mean
   over N. */
FINETUNE_API ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                           ft_node targets /* F32 [N, classes] */);
/* -(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))), t in [0, 1]: the mean over all elements. */
FINETUNE_API ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                             ft_node targets /* F32, as logits */);
/* (x - target)^2: the mean over all elements. */
FINETUNE_API ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target);
/* Connectionist temporal classification (Graves et al. 2006): logits [N, T, classes], and the
   labels of each sample in their order, [N, S], padded with -1 or -100; nothing says at which steps
   they are. A class for each step stands for the labels that are left when runs of one class are
   taken once and then blanks are dropped. The loss is -log(the probability of all that stands for a
   sample's labels), by their number (1 if there are none): the mean over N, as PyTorch's ctc_loss
   of log_softmax(logits). It is infinite, and the run FT_NOT_FINITE, if a sample has fewer steps
   than labels and equal neighbours among these, unless options.zero_infinity. A label that is the
   blank, or no class, makes it NaN. It keeps 8 N T (2 S + 1) bytes for its gradient. With OpenCL it
   runs on the processor. */
FINETUNE_API ft_node ft_ctc_loss(ft_model *m, const char *name, ft_node logits,
                                 ft_node labels /* I32 */, ft_loss_options options);

/* The kinds of ft_loss_by_kind: means over labels I32, as cross_entropy; or over all elements of
   targets F32 of x's shape; p = softmax(x)[label] or sigmoid(x). */
#define FINETUNE_LOSS_LIST(X)                                                                     \
    X(cross_entropy)        /* of labels: ft_cross_entropy */                                     \
    X(focal)                /* of labels: -(1 - p)^gamma log(p): Lin et al. 2017 */               \
    X(hinge)                /* of labels: the sum over the other classes of max(0, margin -       \
                               x_label + x_i), by the classes: PyTorch's multi_margin_loss */     \
    X(soft_cross_entropy)   /* of probabilities [N, classes]: ft_soft_cross_entropy */            \
    X(kl_divergence)        /* of probabilities t [N, classes]: the sum of t (log(t) -            \
                               log_softmax(x)), the mean over N: PyTorch's kl_div, "batchmean" */ \
    X(binary_cross_entropy) /* of targets in [0, 1]: ft_binary_cross_entropy; multi-label */      \
    X(sigmoid_focal)        /* of targets in [0, 1]: torchvision.ops.sigmoid_focal_loss */        \
    X(dice)                 /* of targets in [0, 1]: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) \
                               + smooth), the mean over dimension 1, the sums over all others:    \
                               Milletari et al. 2016 */                                           \
    X(mse)                  /* of numbers: ft_mse */                                              \
    X(l1)                   /* of numbers: |x - t| */                                             \
    X(smooth_l1)            /* of numbers, d = x - t: d^2 / (2 beta) where |d| < beta, else       \
                               |d| - beta / 2: Girshick 2015 */                                   \
    X(huber)                /* of numbers: d^2 / 2 where |d| <= delta, else                       \
                               delta (|d| - delta / 2): Huber 1964 */                             \
    X(ctc)                  /* of labels [N, S] in their order: ft_ctc_loss */

/* A loss of FINETUNE_LOSS_LIST by its name in text ("focal"). FT_INVALID for options that the kind
   does not have. Weights of samples count in all (ft_feed_weights), those of classes in losses of a
   label for each sample or step. */
FINETUNE_API ft_node ft_loss_by_kind(ft_model *m, const char *kind, const char *name, ft_node x,
                                     ft_node target, ft_loss_options options);
/* A loss of vectors [N, D], the mean over N. `kind` is one of
     "cosine"      1 - cos(a, b) where c is 1, max(0, cos(a, b) - margin) where it is -1; c F32 [N]
     "contrastive" (c d^2 + (1 - c) max(0, margin - d)^2) / 2, d = |a - b + 1e-6|, c F32 [N], 1 for
                   a pair that is the same, 0 for others: Hadsell et al. 2006
     "triplet"     max(0, |a - b + 1e-6| - |a - c + 1e-6| + margin), b like a and c [N, D] not
   Formulas of cosine and triplet are PyTorch's cosine_embedding_loss and triplet_margin_loss. */
FINETUNE_API ft_node ft_embedding_loss(ft_model *m, const char *kind, const char *name, ft_node a,
                                       ft_node b, ft_node c, ft_loss_options options);
/* What a larger model, the teacher, gives as targets (Hinton et al. 2015), with T the temperature:
   (1 - alpha) cross_entropy(logits, labels) + alpha T^2 kl_divergence(logits / T, softmax(teacher /
   T)). logits and teacher [N, classes]; no gradient goes to the teacher. */
FINETUNE_API ft_node ft_distillation(ft_model *m, const char *name, ft_node logits,
                                     ft_node teacher, ft_node labels /* I32 */,
                                     ft_loss_options options);
