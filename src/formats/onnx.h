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
#include "formats/onnx_folding.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"
#include "formats/onnx_shapes.h"
#include "formats/onnx_layers.h"
#include "formats/onnx_einsum.h"
#include "formats/onnx_recurrent.h"
#include "formats/onnx_described.h"

/* =============================================================================================
   [SECTION] formats/onnx: ONNX
   The table of ONNX operators that are mapped, the network's inputs and outputs, its description,
   and the row of the reader. Only nodes that an output needs are mapped.
   ============================================================================================= */
#if FT__HAS_ONNX

typedef struct ft__onnx_mapped {
    const char *op;         /* after its domain, if it is not ONNX's own */
    const char *(*map)(ft__onnx *x, const ft__onnx_node *n); /* NULL: If, of ft__onnx_map_node */
} ft__onnx_mapped;

static const ft__onnx_mapped ft__onnx_maps[] = {
    {"Identity", ft__onnx_alias}, {"Dropout", ft__onnx_alias}, {"Cast", ft__onnx_cast},
    {"Relu", ft__onnx_activate}, {"Sigmoid", ft__onnx_activate}, {"Tanh", ft__onnx_activate},
    {"Softplus", ft__onnx_activate}, {"Softsign", ft__onnx_activate}, {"Mish", ft__onnx_activate},
    {"HardSwish", ft__onnx_activate}, {"Exp", ft__onnx_activate}, {"Log", ft__onnx_activate},
    {"Sqrt", ft__onnx_activate}, {"Abs", ft__onnx_activate}, {"Neg", ft__onnx_activate},
    {"Erf", ft__onnx_activate}, {"Selu", ft__onnx_activate}, {"LeakyRelu", ft__onnx_activate},
    {"Elu", ft__onnx_activate}, {"Celu", ft__onnx_activate},
    {"ThresholdedRelu", ft__onnx_activate}, {"HardSigmoid", ft__onnx_hard_sigmoid},
    {"Clip", ft__onnx_clip}, {"Gelu", ft__onnx_gelu}, {"Not", ft__onnx_not},
    {"Reciprocal", ft__onnx_reciprocal}, {"IsNaN", ft__onnx_is_nan}, {"Softmax", ft__onnx_softmax},
    {"LogSoftmax", ft__onnx_softmax}, {"Add", ft__onnx_pair}, {"Sub", ft__onnx_pair},
    {"Mul", ft__onnx_pair}, {"Div", ft__onnx_pair}, {"Max", ft__onnx_many}, {"Min", ft__onnx_many},
    {"Sum", ft__onnx_many}, {"And", ft__onnx_pair}, {"Or", ft__onnx_pair}, {"Equal", ft__onnx_pair},
    {"Less", ft__onnx_pair}, {"LessOrEqual", ft__onnx_pair}, {"Greater", ft__onnx_pair},
    {"GreaterOrEqual", ft__onnx_pair}, {"Where", ft__onnx_where}, {"Pow", ft__onnx_pow},
    {"Reshape", ft__onnx_reshape}, {"Squeeze", ft__onnx_reshape}, {"Unsqueeze", ft__onnx_reshape},
    {"Flatten", ft__onnx_reshape}, {"Transpose", ft__onnx_transpose}, {"Slice", ft__onnx_slice},
    {"Split", ft__onnx_split}, {"Gather", ft__onnx_gather}, {"GatherND", ft__onnx_gather_nd},
    {"Concat", ft__onnx_concat},
    {"Expand", ft__onnx_expand}, {"Tile", ft__onnx_tile}, {"CumSum", ft__onnx_cumsum},
    {"Floor", ft__onnx_activate}, {"Ceil", ft__onnx_activate}, {"Round", ft__onnx_activate},
    {"Sign", ft__onnx_activate}, {"ReduceProd", ft__onnx_reduce}, {"ReduceL2", ft__onnx_reduce},
    {"ReduceLogSumExp", ft__onnx_reduce}, {"Pad", ft__onnx_pad}, {"ReduceMean", ft__onnx_reduce},
    {"ReduceSum", ft__onnx_reduce}, {"ReduceMax", ft__onnx_reduce}, {"ReduceMin", ft__onnx_reduce},
    {"Conv", ft__onnx_conv}, {"MaxPool", ft__onnx_pool}, {"AveragePool", ft__onnx_pool},
    {"GlobalAveragePool", ft__onnx_global_pool}, {"GlobalMaxPool", ft__onnx_global_pool},
    {"BatchNormalization", ft__onnx_batch_norm}, {"LayerNormalization", ft__onnx_layer_norm},
    {"InstanceNormalization", ft__onnx_group_norm}, {"GroupNormalization", ft__onnx_group_norm},
    {"Gemm", ft__onnx_gemm}, {"MatMul", ft__onnx_matmul}, {"PRelu", ft__onnx_prelu},
    {"DepthToSpace", ft__onnx_depth_to_space}, {"LSTM", ft__onnx_recurrent},
    {"GRU", ft__onnx_recurrent}, {"RNN", ft__onnx_recurrent}, {"Resize", ft__onnx_resize},
    {"Upsample", ft__onnx_resize}, {"ConvTranspose", ft__onnx_conv_transpose},
    {"Mean", ft__onnx_many}, {"Xor", ft__onnx_pair}, {"ReduceL1", ft__onnx_reduce},
    {"ReduceLogSum", ft__onnx_reduce}, {"ReduceSumSquare", ft__onnx_reduce},
    {"TopK", ft__onnx_topk}, {"ArgMax", ft__onnx_place}, {"ArgMin", ft__onnx_place},
    {"GatherElements", ft__onnx_gather_elements}, {"SpaceToDepth", ft__onnx_space_to_depth},
    {"Einsum", ft__onnx_einsum}, {"com.microsoft.MatMulNBits", ft__onnx_matmul_bits},
    {"If", NULL}};

/* ---- Values that are there before any node ---- */

/* Initialisers and constants are constants: the tensors from number `first` on. */
static void ft__onnx_take_tensors(ft__onnx *x, int first)
{
    int i, d;
    for (i = first; i < x->tensor_count; ++i) {
        const ft__onnx_tensor *t = &x->tensors[i];
        ft__onnx_value *v = t->value >= 0 ? &x->values[t->value] : NULL;
        if (!v || v->kind != FT__ONNX_UNKNOWN) continue;
        v->kind = FT__ONNX_CONSTANT;
        v->type = t->type;
        v->rank = t->rank;
        v->tensor = i;
        for (d = 0; d < t->rank; ++d) v->size[d] = ft__onnx_known((double)t->size[d]);
    }
}

/* Whether all that reads an input turns [N, H, W, C] into [N, C, H, W]. */
static bool ft__onnx_is_turned(const ft__onnx *x, int input)
{
    int i, k, turns = 0;
    for (i = 0; i < x->node_count; ++i) {
        for (k = 0; k < x->nodes[i].captured_count; ++k)
            if (x->nodes[i].captured[k] == input) return false;
        for (k = 0; k < x->nodes[i].input_count; ++k) {
            const ft__onnx_attribute *a = ft__onnx_attribute_of(&x->nodes[i], "perm");
            if (x->nodes[i].inputs[k] != input || !x->nodes[i].needed) continue;
            if (strcmp(x->nodes[i].op, "Transpose") != 0 || !a || a->count != 4
                || a->wholes[0] != 0 || a->wholes[1] != 3 || a->wholes[2] != 1) return false;
            turns += 1;
        }
    }
    return turns > 0;
}

/* Whether an input's numbers name rows of a table, maybe after another shape or type. */
static bool ft__onnx_is_ids(const ft__onnx *x, int input)
{
    int i, value, most;
    for (i = 0; i < x->node_count; ++i) {
        if (strncmp(x->nodes[i].op, "Gather", 6) != 0 || x->nodes[i].input_count < 2
            || !x->nodes[i].needed) continue;
        value = x->nodes[i].inputs[1];
        for (most = 0; most < 8 && value >= 0 && value != input; ++most) {
            const ft__onnx_node *n = x->values[value].producer < 0 ? NULL
                : &x->nodes[x->values[value].producer];
            value = n && n->input_count > 0 && (strcmp(n->op, "Reshape") == 0
                || strcmp(n->op, "Cast") == 0) ? n->inputs[0] : -1;
        }
        if (value == input && !ft__onnx_is_float(x->values[input].type)) return true;
    }
    return false;
}

/* Whether an input is one whole number that is multiplied by 0, as exporters keep inputs that are
   not needed: it is that 0 then. */
static bool ft__onnx_is_ignored(ft__onnx *x, int input)
{
    ft__onnx_value *v = &x->values[input], shape;
    double number;
    int i, k;
    if (v->rank != 0 || ft__onnx_is_float(v->type)) return false;
    for (i = 0; i < x->node_count; ++i)
        for (k = 0; k < x->nodes[i].input_count + x->nodes[i].captured_count; ++k) {
            const ft__onnx_node *n = &x->nodes[i];
            if (k >= n->input_count ? n->captured[k - n->input_count] != input
                : n->inputs[k] != input) continue;
            if (strcmp(n->op, "Mul") != 0 || k >= 2 || n->input_count != 2
                || !ft__onnx_is_number(x, ft__onnx_input(x, n, 1 - k), &number)
                || number < 0 || number > 0) return false;
        }
    memset(&shape, 0, sizeof shape);
    return ft__onnx_fold_to(x, v, &shape, v->type, true) != NULL;
}

/* Gives the sizes that an input leaves open: the batch is N, one more is L, others must have been
   said. NULL, or what is missing. */
static const char *ft__onnx_close_shape(ft__onnx *x, ft__onnx_value *v)
{
    const int *said = x->file->sample;
    bool main = x->main_input >= 0 && v == &x->values[x->main_input];
    int d, open = 0;
    if (v->rank < 1) return "has no shape";
    if (v->rank > FINETUNE_MAX_RANK) return "has more dimensions than are supported";
    for (d = 1; d < v->rank; ++d) {
        bool is_open = v->size[d].k < 0;
        int size = main ? said[d - 1] : 0;
        if (size > 0 && !is_open && !ft__onnx_is(v->size[d], size))
            return "has another fixed size than ft_weights_options.sample says";
        open += is_open && size <= 0;
        if (size > 0) v->size[d] = ft__onnx_known(size);
        else if (is_open) {
            v->size[d] = ft__onnx_known(1);
            v->size[d].l = 1;
        }
    }
    if (open > 1) return "leaves more than the batch and one size open: ft_weights_options.sample"
        " (--sample) must say the sizes of a sample";
    if (!main && x->batch <= 0 && v->size[0].k >= 2 && open == 1) { /* a state [2, N, D] */
        while (v->size[v->batch].l == 0) v->batch += 1;
        v->size[v->batch] = ft__onnx_known(1);
        v->size[v->batch].n = 1;
        return NULL;
    }
    if (v->size[0].k >= 1) {
        if (x->batch > 0 && (v->size[0].k < x->batch || v->size[0].k > x->batch))
            return "has another batch than another input";
        x->batch = v->size[0].k;
    }
    v->size[0] = ft__onnx_known(1);
    v->size[0].n = 1;
    return NULL;
}

/* An input of these sizes, the batch first. */
static int ft__onnx_input_node(ft__onnx *x, const char *name, bool whole,
                               const ft__onnx_number *sizes, int rank)
{
    ft__text fields = ft__onnx_fields(x);
    int d;
    if (whole) ft__text_add(&fields, ",\"type\":\"I32\"");
    ft__text_add(&fields, ",\"shape\":[\"N\"");
    for (d = 1; d < rank; ++d) {
        int size = ft__onnx_size(sizes[d]);
        if (size > 0) ft__text_add(&fields, ",%d", size);
        else ft__text_add(&fields, ",\"L\"");
    }
    ft__text_add(&fields, "]");
    return ft__onnx_make(x, "input", name, NULL, 0, &fields);
}

static void ft__onnx_make_input(ft__onnx *x, int input)
{
    ft__onnx_value *v = &x->values[input];
    bool ids = ft__onnx_is_ids(x, input), main = input == x->main_input;
    const char *name = main ? (ids ? "tokens" : "input") : v->name, *fault;
    ft__onnx_number own[FT__ONNX_RANK + 1];
    int d;
    if (!main && (strcmp(name, "input") == 0 || strcmp(name, "tokens") == 0
                  || strcmp(name, "labels") == 0)) name = ft__onnx_name(x, name, "_");
    fault = ft__onnx_close_shape(x, v);
    if (fault) {
        ft__fail(x->file->context, FT_UNSUPPORTED, "%s: the input %.200s %s",
                 x->file->path, v->name, fault);
        return;
    }
    if (v->rank == 4 && ft__onnx_is_turned(x, input)) { /* pictures are [N, C, H, W] here */
        ft__onnx_number channels = v->size[3];
        v->size[3] = v->size[2];
        v->size[2] = v->size[1];
        v->size[1] = channels;
        for (d = 0; d < x->node_count; ++d)
            if (strcmp(x->nodes[d].op, "Transpose") == 0 && x->nodes[d].input_count > 0
                && x->nodes[d].inputs[0] == input)
                x->nodes[d].op = "Identity";
    }
    ft__onnx_own(v, own);
    v->made = ft__onnx_input_node(x, name, ids, own, v->rank);
    v->kind = FT__ONNX_NODE;
}

/* ---- The nodes ---- */

/* Marks the nodes from number `first` on that these outputs need, and counts how often each value
   is read. */
static void ft__onnx_mark_needed(ft__onnx *x, const int *outputs, int output_count, int first)
{
    int i, k, *stack, count = 0;
    size_t most = (size_t)output_count + 1;
    for (i = first; i < x->node_count; ++i)
        most += (size_t)x->nodes[i].input_count + (size_t)x->nodes[i].captured_count;
    stack = (int *)ft__file_memory(x->file, most * sizeof(int));
    if (!stack) return;
    for (i = 0; i < output_count; ++i) {
        x->values[outputs[i]].uses += 1;
        stack[count++] = outputs[i];
    }
    while (count > 0) {
        int producer = x->values[stack[--count]].producer;
        ft__onnx_node *n = producer >= 0 ? &x->nodes[producer] : NULL;
        if (!n || n->needed || producer < first) continue;
        n->needed = true;
        for (k = 0; k < n->input_count + n->captured_count; ++k) {
            int value = k < n->input_count ? n->inputs[k] : n->captured[k - n->input_count];
            if (value < 0) continue;
            x->values[value].uses += 1;
            stack[count++] = value;
        }
    }
}

/* Lists a node that cannot be mapped, while there is room; what follows from it is passed over. */
static void ft__onnx_refuse(ft__onnx *x, const ft__onnx_node *n, const char *why)
{
    char one[400];
    const char *name = *n->name ? n->name : ft__onnx_name_of(x, n);
    int k;
    if (x->refusal_count++ == 0) {
        x->mapped_before = x->mapped_count;
        for (k = 0; k < n->input_count; ++k)
            if (ft__onnx_node_in(x, n, k) && !ft__onnx_is_raw_input(
                    x, ft__onnx_node_in(x, n, k)->made))
                x->last_before = ft__onnx_node_in(x, n, k)->name;
    }
    snprintf(one, sizeof one, "%s%.60s (%s%s%.40s): %s", x->refusal_count > 1 ? "; " : "", name,
             n->domain, *n->domain ? "." : "", n->op, why);
    if (x->refusals_listed + 1 < x->refusal_count
        || strlen(x->refusals) + strlen(one) >= sizeof x->refusals) return;
    strcat(x->refusals, one);
    x->refusals_listed += 1;
}

/* The error that lists the nodes that cannot be mapped. */
static void ft__onnx_fail_refused(const ft__onnx *x)
{
    char more[40] = "", before[200] = "";
    int count = x->refusal_count - x->refusals_listed;
    if (count > 0) snprintf(more, sizeof more, "; and %d more", count);
    if (x->last_before)
        snprintf(before, sizeof before, ". The %d nodes before the first of them, up to %.100s,"
                 " could run as a frozen prefix", x->mapped_before, x->last_before);
    ft__fail(x->file->context, FT_UNSUPPORTED, "%s: %d nodes of opset %lld cannot be mapped: %s%s"
             "%s", x->file->path, x->refusal_count, (long long)x->opset, x->refusals, more, before);
}

/* The row of a node's operator; NULL: it is not mapped. */
static const ft__onnx_mapped *ft__onnx_map_of(const ft__onnx_node *n)
{
    size_t i, domain = strlen(n->domain);
    for (i = 0; i < sizeof ft__onnx_maps / sizeof *ft__onnx_maps; ++i) {
        const char *op = ft__onnx_maps[i].op;
        if (domain && (strncmp(op, n->domain, domain) != 0 || op[domain] != '.')) continue;
        if (strcmp(op + domain + (domain > 0), n->op) == 0) return &ft__onnx_maps[i];
    }
    return NULL;
}

/* Why a tensor that a node reads cannot be read; NULL: all can be. */
static const char *ft__onnx_input_fault(ft__onnx *x, const ft__onnx_node *n)
{
    int k;
    for (k = 0; k < n->input_count; ++k) {
        const ft__onnx_value *v = ft__onnx_input(x, n, k);
        const char *fault = v && v->tensor >= 0 ? x->tensors[v->tensor].fault : NULL;
        if (fault) return ft__onnx_name(x, ft__onnx_name(x, v->name, " "), fault);
    }
    return NULL;
}

/* Reads the branch of an If that is taken: its nodes from number *first to *last, and its outputs.
   NULL, or why it cannot be. */
static const char *ft__onnx_open_branch(ft__onnx *x, const ft__onnx_node *n, int *first, int *last,
                                        int **outputs)
{
    const ft__onnx_attribute *branch;
    double taken;
    int count, tensors = x->tensor_count;
    if (!ft__onnx_is_number(x, ft__onnx_input(x, n, 0), &taken))
        return "is supported if its condition follows from constants and shapes";
    branch = ft__onnx_attribute_of(n, taken < 0 || taken > 0 ? "then_branch" : "else_branch");
    if (!branch || !branch->has_graph) return "lacks a branch";
    if (x->depth >= FT__ONNX_DEPTH) return "is inside too many others";
    *first = x->node_count;
    *outputs = ft__onnx_read_body(x, branch->graph, &count);
    *last = x->node_count;
    if (!*outputs) return "its branch cannot be read";
    if (count != n->output_count) return "its branch has another number of outputs";
    ft__onnx_list_tensors(x, tensors);
    ft__onnx_take_tensors(x, tensors);
    ft__onnx_mark_needed(x, *outputs, count, *first);
    return NULL;
}

/* Gives an If the outputs of its branch. */
static void ft__onnx_close_branch(ft__onnx *x, const ft__onnx_node *n, const int *outputs)
{
    int k;
    for (k = 0; k < n->output_count; ++k) {
        ft__onnx_value *y = ft__onnx_output(x, n, k), *v = &x->values[outputs[k]];
        if (v->kind == FT__ONNX_UNKNOWN) v->kind = FT__ONNX_REFUSED;
        if (y) ft__onnx_fold_view(y, v, v);
    }
}

static void ft__onnx_map_node(ft__onnx *x, const ft__onnx_node *n)
{
    const ft__onnx_folded *fold = *n->domain ? NULL : ft__onnx_fold_of(n->op);
    const ft__onnx_mapped *mapped = ft__onnx_map_of(n);
    const char *why = NULL, *fault;
    bool refused = false;
    int k, first, last, *outputs;
    for (k = 0; k < n->input_count; ++k)
        refused = refused || (n->inputs[k] >= 0 && (x->values[n->inputs[k]].kind == FT__ONNX_REFUSED
            || x->values[n->inputs[k]].kind == FT__ONNX_UNKNOWN));
    if (!fold && !mapped) why = "is no operator that is known here";
    else if (!refused) { /* else the reason was listed before */
        x->mapped_count += 1;
        if (fold && ft__onnx_fold(x, n, fold)) return;
        if (mapped && !mapped->map) { /* If */
            why = ft__onnx_open_branch(x, n, &first, &last, &outputs);
            x->depth += 1;
            for (; !why && first < last && ft__ok(x->file->context); ++first)
                if (x->nodes[first].needed) ft__onnx_map_node(x, &x->nodes[first]);
            x->depth -= 1;
            if (!why) ft__onnx_close_branch(x, n, outputs);
        } else if (mapped) why = mapped->map(x, n);
        else why = "its numbers do not follow from constants and shapes";
        if (!why) return;
        x->mapped_count -= 1;
        fault = ft__onnx_input_fault(x, n);
        if (fault) why = fault;
    }
    for (k = 0; k < n->output_count; ++k)
        if (n->outputs[k] >= 0) x->values[n->outputs[k]].kind = FT__ONNX_REFUSED;
    if (why) ft__onnx_refuse(x, n, why);
}

/* ---- The description ---- */

static void ft__onnx_mark_used(ft__onnx *x, int made)
{
    int i, k;
    x->made[made].used = true;
    for (i = made; i >= 0; --i) /* inputs were made before */
        for (k = 0; x->made[i].used && k < x->made[i].count; ++k)
            x->made[x->made[i].inputs[k]].used = true;
}

static void ft__onnx_write(const ft__onnx *x, ft__text *text, int output)
{
    int i, k;
    bool first = true;
    ft__text_add(text, "{\"format\":1,\"nodes\":[");
    for (i = 0; i < x->made_count; ++i) {
        const ft__onnx_made *made = &x->made[i];
        if (!made->used) continue;
        ft__text_add(text, "%s\n{\"op\":\"%s\",\"name\":", first ? "" : ",", made->op);
        first = false;
        ft__json_add_text(text, made->name);
        for (k = 0; k < made->count; ++k) {
            ft__text_add(text, k ? "," : ",\"inputs\":[");
            ft__json_add_text(text, x->made[made->inputs[k]].name);
        }
        if (k > 0) ft__text_add(text, "]");
        ft__text_add_bytes(text, made->fields, strlen(made->fields));
        ft__text_add(text, "}");
    }
    ft__text_add(text, "],\n\"output\":");
    ft__json_add_text(text, x->made[output].name);
}

/* A network that classifies gets labels and a loss, so that it can be trained. Returns whether it
   did. */
static bool ft__onnx_add_loss(ft__onnx *x, int *output)
{
    const ft__onnx_value *y = &x->values[x->outputs[0]];
    int size = ft__onnx_size(y->size[y->rank - 1]), labels, loss;
    ft__onnx_number own[FT__ONNX_RANK + 1];
    int rank = ft__onnx_own(y, own), i;
    for (i = 0; i < x->made_count; ++i) /* it computes one itself */
        if (strcmp(x->made[i].name, "loss") == 0) return false;
    if (ft__onnx_is_op(x, *output, "softmax") || ft__onnx_is_op(x, *output, "log_softmax")) {
        if (!x->made[x->made[*output].inputs[0]].count) return false; /* of an input: it stays */
        *output = x->made[*output].inputs[0];
        ft__log(x->file->context, "%s: its last softmax is left to prediction: the output is what"
                " it reads, the logits", x->file->path);
    }
    if (rank < 2 || rank > 3 || size < 2 || y->batch == y->rank - 1) return false;
    labels = ft__onnx_input_node(x, "labels", true, own, rank - 1);
    loss = ft__onnx_make_two(x, "cross_entropy", "loss", *output, labels, NULL);
    if (loss >= 0) x->made[loss].used = x->made[labels].used = true;
    return loss >= 0;
}

/* Maps the graph, once. */
static void ft__onnx_describe(ft__onnx *x)
{
    int i, nodes, output;
    bool loss;
    ft__text text = ft__onnx_fields(x);
    ft__context *c = x->file->context;
    ft__onnx_mark_needed(x, x->outputs, x->output_count, 0);
    ft__onnx_take_tensors(x, 0);
    for (i = 0, x->main_input = -1; i < x->input_count; ++i) {
        const ft__onnx_value *v = &x->values[x->inputs[i]];
        if (v->kind == FT__ONNX_UNKNOWN && v->uses && x->main_input < 0)
            x->main_input = x->inputs[i];
    }
    for (i = 0; i < x->input_count && ft__ok(c); ++i)
        if (x->values[x->inputs[i]].kind == FT__ONNX_UNKNOWN && x->values[x->inputs[i]].uses
            && !ft__onnx_is_ignored(x, x->inputs[i])) ft__onnx_make_input(x, x->inputs[i]);
    nodes = x->node_count; /* those of branches are added */
    for (i = 0; i < nodes && ft__ok(c); ++i)
        if (x->nodes[i].needed) ft__onnx_map_node(x, &x->nodes[i]);
    if (!ft__ok(c)) return;
    if (x->refusal_count) {
        ft__onnx_fail_refused(x);
        return;
    }
    for (i = 0; i < x->output_count; ++i)
        if (x->values[x->outputs[i]].kind != FT__ONNX_NODE) {
            ft__fail(c, FT_UNSUPPORTED, "%s: the output %.200s does not follow from an input",
                     x->file->path, x->values[x->outputs[i]].name);
            return;
        }
    if (x->output_count < 1) {
        ft__fail(c, FT_FORMAT, "%s: the ONNX graph has no outputs", x->file->path);
        return;
    }
    for (i = 0; i < x->output_count; ++i) {
        ft__onnx_value *v = &x->values[x->outputs[i]];
        if (!x->made[v->made].count) v->made = ft__onnx_make_affine(x, v->name, v->made, 1, 0);
        if (v->made < 0) return;
        x->made[v->made].name = v->name;
    }
    output = x->values[x->outputs[0]].made;
    loss = x->output_count == 1 && ft__onnx_add_loss(x, &output);
    for (i = 0; i < x->output_count; ++i)
        ft__onnx_mark_used(x, i ? x->values[x->outputs[i]].made : output);
    ft__onnx_write(x, &text, output);
    ft__text_add(&text, loss ? ",\"loss\":\"loss\"}" : "}");
    x->graph = text.letters ? ft__onnx_keep(x, text.letters) : NULL;
    ft__release(c, text.letters);
    if (ft__file_index(x->file) == FT_OK) x->file->may_hold = "*"; /* what was computed from */
}

/* ---- The reader ---- */

/* ir_version, the first field, and one of those after it. */
static bool ft__onnx_recognises(const ft_file *file)
{
    static const char next[] = "\x12\x1a\x22\x28\x32\x3a\x42";
    return file->size > 4 && file->bytes[0] == 8 && file->bytes[1] >= 3 && file->bytes[1] < 32
        && memchr(next, file->bytes[2], sizeof next - 1) != NULL;
}

static void ft__onnx_open(ft_file *file)
{
    ft__onnx *x = (ft__onnx *)ft__file_memory(file, sizeof *x);
    ft_file *self = ft__file_add_holder(file, NULL, file->bytes, file->size);
    if (!x || !self) return;
    self->mapping = file->mapping;
    if (self->mapping) self->mapping->users += 1;
    x->file = file;
    file->own = x;
    ft__onnx_read_model(x);
    if (!ft__ok(file->context)) return;
    if (x->opset < FT__ONNX_OLDEST || x->opset > FT__ONNX_NEWEST)
        ft__fail(file->context, FT_UNSUPPORTED, "%s: has operators of ONNX's opset %lld; %d to %d"
                 " are supported", file->path, (long long)x->opset, FT__ONNX_OLDEST,
                 FT__ONNX_NEWEST);
    ft__onnx_list_tensors(x, 0);
    ft__file_index(file);
    x->graph = ft__onnx_description(file);
    if (x->graph) file->may_hold = "*"; /* small constants of the nodes */
}

static void ft__onnx_read(const ft_file *file, const ft_tensor_info *t, size_t first, size_t count,
                          unsigned char *to)
{
    ft__read_in_order(file->shards[t->shard], t, first, count, to);
}

static const char *ft__onnx_graph(ft_file *file)
{
    ft__onnx *x = (ft__onnx *)file->own;
    if (!x->graph && ft__ok(file->context)) ft__onnx_describe(x);
    return x->graph ? x->graph : "";
}

static const ft__reader ft__reader_onnx = {
    "ONNX", false, ft__onnx_recognises, ft__onnx_open, ft__onnx_read, ft__onnx_graph, true};
#endif
