#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/operators.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] operators/table: The table of operators
   What a row says of an operator of the list (nodes/operators). The row stands at the end of the
   operator's part; operators/rows gathers them all.
   ============================================================================================= */
#define FT__OP_ENUM(name) FT__OP_##name,
enum { FT__LEAVES(FT__OP_ENUM) FT__OPERATORS(FT__OP_ENUM, FT__OP_ENUM) FT__OP_COUNT };

typedef struct ft__costs {
    size_t saved, workspace, prepared;
    size_t kept;            /* bytes for ft__call.kept, which `past` needs */
    uint64_t multiply_adds;
} ft__costs;

/* A row's flags: what the planner, the devices, the networks and the training ask of an operator,
   so that they need not know its name (ft__is). */
#define FT__FLAG(bit) ((uint64_t)1 << (bit))

/* How its functions work, from bit 0 */
#define FT__READS_X FT__FLAG(0) /* backward reads the inputs, ... */
#define FT__READS_Y FT__FLAG(1) /* ... the output */
#define FT__WRITES FT__FLAG(2)  /* backward honours input[0].fresh, ... */
#define FT__WRITES_ALL FT__FLAG(3) /* ... and that of the other inputs */
#define FT__FUSES FT__FLAG(4)   /* forward applies call->fused to its output */
#define FT__IN_PLACE FT__FLAG(5) /* the first input's gradient may share memory with the output's */
#define FT__MASKS FT__FLAG(6)   /* backward computes from x where a fused relu or relu6 was flat,
                                   so that the output need not be kept */
#define FT__RESTORES FT__FLAG(7) /* forward can run again from x and what it saved the first time,
                                   at about the price of a copy */
#define FT__READS_TYPES FT__FLAG(8) /* reads weights, its inputs after the first, in the type that
                                   they are stored in; for others they are converted before */

/* How x and y lie in memory if they are [N, C, H, W] (graph/layout), from bit 16: row by row,
   unless ... */
#define FT__CHANNELS_LAST FT__FLAG(16) /* ... x and y must be channels-last, ... */
#define FT__ANY_LAYOUT FT__FLAG(17) /* ... either, all inputs and the output alike, ... */
#define FT__REORDERS FT__FLAG(18) /* ... or either, each as it comes; y has the numbers of x, ... */
#define FT__PERMUTES FT__FLAG(19) /* ... in the order of ft__permute_options, or else that of x */
#define FT__STRIDED FT__FLAG(20) /* up to rank 4 tensors may be stored in any order of their
                                   dimensions in which one of the last two is the innermost */

/* What its inputs are, from bit 24 */
#define FT__WEIGHTS FT__FLAG(24) /* those after the first are weights: no row for each sample */
#define FT__STATISTICS FT__FLAG(25) /* 3 and 4 are a running mean and variance, which forward moves
                                   in training */
#define FT__LOOKS_UP FT__FLAG(26) /* input[0] numbers rows of the weight input[1] */
#define FT__BROADCASTS FT__FLAG(27) /* they are repeated to the shape of the output */
#define FT__MIXES FT__FLAG(28)  /* numbers of different samples may meet, as its shapes say */

#define FT__BY_STEP FT__FLAG(29) /* step t of y [N, L, ..] follows from the inputs' step t alone */
#define FT__AFTER_PAST FT__FLAG(30) /* ... and from the steps before, if ft__call has `past` */

/* What it is, from bit 32 */
#define FT__LEAF FT__FLAG(32)   /* it computes nothing */
#define FT__BY_KIND FT__FLAG(33) /* ft_activation makes it */
#define FT__PRODUCT FT__FLAG(34) /* a matrix product with the weight input[1] */
#define FT__FOLDS FT__FLAG(35)  /* a batch norm after it can be folded into its weight and bias */
#define FT__CAN_BE_HEAD FT__FLAG(36) /* ft_replace_head can change its number of outputs */
#define FT__NOISE FT__FLAG(37)  /* random in training, the identity else; it can be frozen */
#define FT__RECURRENT FT__FLAG(38) /* with ft__recurrent_options */
#define FT__PROBABILITIES FT__FLAG(39) /* the output's last axis sums to 1 */
#define FT__CALLBACKS FT__FLAG(40) /* its functions are the user's: it cannot be saved */
#define FT__CLASSES FT__FLAG(41) /* a loss whose input[1] are class labels */
#define FT__REGRESSION FT__FLAG(42) /* a loss of the differences of its inputs */
#define FT__ATTENDS FT__FLAG(44) /* attention: of a transformer */
#define FT__OWN_LOGITS FT__FLAG(45) /* a loss that makes the logits of its labels itself, some at a
                                   time: training does not make the output beside it */
#define FT__WEIGHS FT__FLAG(43) /* a loss over a batch that honours the weights in ft__call */

#define FT__TWO_LABELS FT__FLAG(50) /* a loss of class labels that honours ft__call.other_share */
#define FT__BY_SIGMOID FT__FLAG(51) /* a loss, or what one is made of, that reads x as the logit of
                                   a probability, sigmoid(x) */

#define FT__INTEGERS FT__FLAG(52) /* its output is I32 */
#define FT__COUNTS FT__FLAG(53) /* counts each text's tokens: the network is a bag of words */

/* What often goes together */
#define FT__ELEMENTS (FT__WRITES | FT__IN_PLACE | FT__BY_KIND | FT__ANY_LAYOUT | FT__BY_STEP)
#define FT__OF_X (FT__READS_X | FT__ELEMENTS) /* activations whose slope is given by x */
#define FT__OF_Y (FT__READS_Y | FT__ELEMENTS) /* ... by y */
#define FT__LAYER (FT__READS_X | FT__WRITES | FT__FUSES) /* layers that apply activations */

/* A shape rule sets the output's shape, with FT_BATCH where the inputs have it, or fails with a
   message that names the node. */
typedef ft_status (*ft__shape_rule)(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output);
typedef void (*ft__operator)(const ft__call *call);
typedef void (*ft__cost_rule)(const ft__call *call, ft__costs *costs);

/* to = f(from), and dx = or += dy f'(at), where `at` is x or y; from and to, dy and dx may be the
   same. simd: the context's. */
typedef void (*ft__activation_values)(int simd, const ft__options *o, const float *from, float *to,
                                      size_t count);
typedef void (*ft__activation_slopes)(int simd, const ft__options *o, const float *at,
                                      const float *dy, float *dx, size_t count, bool add);

typedef struct ft__activation { /* what a layer needs to apply it to its output */
    ft__activation_values values;
    ft__activation_slopes slopes;
    float (*option)(const ft__options *o); /* the number that some depend on */
    float high;             /* above 0: it only clamps, to 0 and this */
} ft__activation;

struct ft__row {
    int op;
    const char *name;
    int least_inputs, most_inputs;
    uint64_t flags;
    ft__shape_rule shape;
    ft__operator forward;       /* computes output.value from input[i].value */
    ft__operator backward;      /* adds to input[i].gradient unless that is NULL */
    ft__cost_rule costs;        /* bytes to keep from forward to backward, bytes of scratch, bytes
                                   of prepared weights, multiply-adds; NULL: none of them */
    const ft__field *fields;    /* the options that a model file keeps; ends with a NULL name */
    const ft__activation *activation; /* NULL: it is none that a layer can apply */
};

/* A row begins with FT__NAMED(NAME): op and name. */
#define FT__NAMED(name) FT__OP_##name, #name

/* The fields of an options struct, by the names that they have there and in files. Each is listed:
   what a file need not keep, as it is an input or follows from one, is FT__NOT_KEPT. */
#define FT__FIELD(options, name, type, kind)                                                      \
    {#name, offsetof(options, name), (int)(sizeof(((options *)0)->name) / sizeof(type)), kind}
#define FT__INT(options, name) FT__FIELD(options, name, int, 'i')
#define FT__FLOAT(options, name) FT__FIELD(options, name, float, 'f')
#define FT__BOOL(options, name) FT__FIELD(options, name, bool, 'b')
#define FT__NOT_KEPT(options, name)
#define FT__NO_MORE_FIELDS {NULL, 0, 0, 0}

static const ft__field ft__no_fields[] = {FT__NO_MORE_FIELDS};

/* Of the nodes that compute nothing. */
#define FT__LEAF_ROW(name)                                                                        \
    static const ft__row ft__row_##name = {FT__NAMED(name), 0, 0, FT__LEAF, NULL, NULL, NULL,     \
                                           NULL, ft__no_fields, NULL};
FT__LEAVES(FT__LEAF_ROW)

/* The kinds of leaves. A node that was removed is of no kind, and no longer any node. */
static bool ft__is_any(const ft__node *node) { return node->op != FT__OP_none; }
static bool ft__is_input(const ft__node *node) { return node->op == FT__OP_input; }
static bool ft__is_parameter(const ft__node *node) { return node->op == FT__OP_parameter; }
static bool ft__is_constant(const ft__node *node) { return node->op == FT__OP_constant; }
static bool ft__is_buffer(const ft__node *node)
{
    return node->op == FT__OP_buffer || ft__is_constant(node);
}
static bool ft__is_state(const ft__node *node) { return node->op == FT__OP_state; }

/* Inputs, and states that go from run to run, have a row for each sample. */
static bool ft__has_rows(const ft__node *node) { return ft__is_input(node) || ft__is_state(node); }

/* Whether a weight may lie in another type, or in a mapped file (nodes/storage). */
static bool ft__may_be_stored(const ft__node *node)
{
    return ft__is_parameter(node) && node->shape.rank >= 2;
}

static bool ft__is_weight(const ft__node *node)
{
    return ft__is_parameter(node) || ft__is_buffer(node);
}
