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
#include "formats/onnx_recurrent.h"

/* =============================================================================================
   [SECTION] formats/onnx: ONNX
   The table of ONNX operators that are mapped, the network's inputs and outputs, its description,
   and the row of the reader. Only nodes that an output needs are mapped.
   ============================================================================================= */
#if FT__HAS_ONNX

typedef struct ft__onnx_mapped {
    const char *op;
    const char *(*map)(ft__onnx *x, const ft__onnx_node *n);
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
    {"GatherElements", ft__onnx_gather_elements}, {"SpaceToDepth", ft__onnx_space_to_depth}};

/* ---- Values that are there before any node ---- */

/* Initialisers and constants are constants. */
static void ft__onnx_take_tensors(ft__onnx *x)
{
    int i, d;
    for (i = 0; i < x->tensor_count; ++i) {
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
    for (i = 0; i < x->node_count; ++i)
        for (k = 0; k < x->nodes[i].input_count; ++k) {
            const ft__onnx_attribute *a = ft__onnx_attribute_of(&x->nodes[i], "perm");
            if (x->nodes[i].inputs[k] != input || !x->nodes[i].needed) continue;
            if (strcmp(x->nodes[i].op, "Transpose") != 0 || !a || a->count != 4
                || a->wholes[0] != 0 || a->wholes[1] != 3 || a->wholes[2] != 1) return false;
            turns += 1;
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
    v->made = ft__onnx_input_node(x, name, ids, v->size, v->rank);
    v->kind = FT__ONNX_NODE;
    v->batch = 0;
}

/* ---- The nodes ---- */

/* Marks the nodes that the outputs need, and counts how often each value is read. */
static void ft__onnx_mark_needed(ft__onnx *x)
{
    int i, k, *stack, count = 0;
    size_t most = (size_t)x->output_count + 1;
    for (i = 0; i < x->node_count; ++i) most += (size_t)x->nodes[i].input_count;
    stack = (int *)ft__file_memory(x->file, most * sizeof(int));
    if (!stack) return;
    for (i = 0; i < x->output_count; ++i) {
        x->values[x->outputs[i]].uses += 1;
        stack[count++] = x->outputs[i];
    }
    while (count > 0) {
        int producer = x->values[stack[--count]].producer;
        ft__onnx_node *n = producer >= 0 ? &x->nodes[producer] : NULL;
        if (!n || n->needed) continue;
        n->needed = true;
        for (k = 0; k < n->input_count; ++k) {
            if (n->inputs[k] < 0) continue;
            x->values[n->inputs[k]].uses += 1;
            stack[count++] = n->inputs[k];
        }
    }
}

/* Lists a node that cannot be mapped; what follows from it is passed over. */
static void ft__onnx_refuse(ft__onnx *x, const ft__onnx_node *n, const char *why)
{
    size_t at = strlen(x->refusals);
    const char *name = *n->name ? n->name : ft__onnx_name_of(x, n);
    x->refusal_count += 1;
    snprintf(x->refusals + at, sizeof x->refusals - at, "%s%.60s (%s%s%.40s): %s",
             x->refusal_count > 1 ? "; " : "", name, n->domain, *n->domain ? "." : "", n->op, why);
}

/* The row of an operator; NULL: it is not mapped. */
static const ft__onnx_mapped *ft__onnx_map_of(const char *op)
{
    size_t i;
    for (i = 0; i < sizeof ft__onnx_maps / sizeof *ft__onnx_maps; ++i)
        if (strcmp(ft__onnx_maps[i].op, op) == 0) return &ft__onnx_maps[i];
    return NULL;
}

static void ft__onnx_map_node(ft__onnx *x, const ft__onnx_node *n)
{
    const ft__onnx_folded *fold = *n->domain ? NULL : ft__onnx_fold_of(n->op);
    const ft__onnx_mapped *mapped = *n->domain ? NULL : ft__onnx_map_of(n->op);
    const char *why = NULL;
    bool refused = false;
    int k;
    for (k = 0; k < n->input_count; ++k)
        refused = refused || (n->inputs[k] >= 0 && (x->values[n->inputs[k]].kind == FT__ONNX_REFUSED
            || x->values[n->inputs[k]].kind == FT__ONNX_UNKNOWN));
    if (!fold && !mapped) why = "is no operator that is known here";
    else if (!refused) { /* else the reason was listed before */
        if (fold && ft__onnx_fold(x, n, fold)) return;
        why = mapped ? mapped->map(x, n) : "its numbers do not follow from constants and shapes";
        if (!why) return;
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
    int i, output;
    bool loss;
    ft__text text = ft__onnx_fields(x);
    ft__context *c = x->file->context;
    ft__onnx_mark_needed(x);
    ft__onnx_take_tensors(x);
    for (i = 0, x->main_input = -1; i < x->input_count; ++i) {
        const ft__onnx_value *v = &x->values[x->inputs[i]];
        if (v->kind == FT__ONNX_UNKNOWN && v->uses && x->main_input < 0)
            x->main_input = x->inputs[i];
    }
    for (i = 0; i < x->input_count && ft__ok(c); ++i)
        if (x->values[x->inputs[i]].kind == FT__ONNX_UNKNOWN && x->values[x->inputs[i]].uses)
            ft__onnx_make_input(x, x->inputs[i]);
    for (i = 0; i < x->node_count && ft__ok(c); ++i)
        if (x->nodes[i].needed) ft__onnx_map_node(x, &x->nodes[i]);
    if (!ft__ok(c)) return;
    if (x->refusal_count) {
        ft__fail(c, FT_UNSUPPORTED, "%s: %d nodes of opset %lld cannot be mapped: %s",
                 x->file->path, x->refusal_count, (long long)x->opset, x->refusals);
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

/* The types that weights can have; FT_OTHER: another. */
static ft_type ft__onnx_type(int type)
{
    return type == FT__ONNX_F32 ? FT_F32 : type == FT__ONNX_F16 ? FT_F16 : type == 16 ? FT_BF16
        : type == 11 ? FT_F64 : FT_OTHER;
}

/* Lists the named tensors that can be weights; the others are shapes, indices and
   single numbers. */
static void ft__onnx_list_tensors(ft__onnx *x)
{
    int i, d;
    for (i = 0; i < x->tensor_count && ft__ok(x->file->context); ++i) {
        ft__onnx_tensor *t = &x->tensors[i];
        ft_tensor_info *info;
        if (t->value < 0 || !t->data || t->rank < 1 || t->rank > FINETUNE_MAX_RANK || t->count == 0
            || ft__onnx_type(t->type) == FT_OTHER) continue;
        info = ft__file_add(x->file);
        if (!info) return;
        memset(info, 0, sizeof *info);
        t->listed = x->file->count - 1;
        info->name = x->values[t->value].name;
        info->type = ft__onnx_type(t->type);
        info->type_name = ft__type_names[info->type];
        info->shape.rank = t->rank;
        for (d = 0; d < t->rank; ++d) info->shape.size[d] = (int)t->size[d];
        info->bytes = t->count * (uint64_t)ft__onnx_type_bytes(t->type);
        if (t->shard < 0) {
            if (!ft__file_add_holder(x->file, NULL, t->data, info->bytes)) return;
            t->shard = x->file->shard_count - 1;
        }
        info->shard = t->shard;
        info->offset = (uint64_t)(t->data - x->file->shards[t->shard]->bytes);
        ft__row_major(info);
    }
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
    ft__onnx_list_tensors(x);
    ft__file_index(file);
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
