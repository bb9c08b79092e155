/* onnx_cases.h - networks for the writing of ONNX: one of each operator, and those that are known by
   name, small. test_formats reads what is written back; onnx_out writes files for onnx_files.py, where
   ONNX Runtime runs them. Include it after finetune.h and check.h. */
#ifndef ONNX_CASES_H
#define ONNX_CASES_H

/* Batch and length are those of golden/make_onnx.py. */
enum { CASE_BATCH = 2, CASE_STEPS = 5, CASE_NUMBERS = 1 << 20 };

/* A node of one operator, "y". inputs: "x" a float input, "a" one above 0, "i" one of integers from 0 to 2, "k"
   lengths, "p" a parameter, "b" a buffer above 0, each with its sizes: "x N,3,5;p 3". */
typedef struct onnx_case {
    const char *op, *fields, *inputs;
    bool unread;            /* our reader may not know some of the nodes that it is written as */
} onnx_case;

static const onnx_case onnx_cases[] = {
    {"sigmoid", "", "x N,3,5", false}, {"tanh", "", "x N,7", false}, {"relu", "", "x N,3,2,2", false},
    {"relu6", "", "x N,30", false}, {"leaky_relu", "\"slope\":0.2", "x N,9", false},
    {"leaky_relu", "", "x N,9", false}, {"elu", "\"alpha\":0.7", "x N,9", false}, {"elu", "", "x N,9", false},
    {"softplus", "", "x N,9", false}, {"softsign", "", "x N,9", false}, {"gelu", "", "x N,9", false},
    {"gelu", "\"tanh_approximation\":true", "x N,9", false}, {"silu", "", "x N,9", false},
    {"mish", "", "x N,9", false}, {"softmax", "", "x N,4,3", false}, {"softmax", "\"axis\":1", "x N,4,3,2", false},
    {"log_softmax", "", "x N,3,4", false}, {"selu", "", "x N,9", false}, {"celu", "\"alpha\":0.6", "x N,9", false},
    {"celu", "", "x N,9", false}, {"hardsigmoid", "", "x N,40", false}, {"hardswish", "", "x N,40", false},
    {"hardtanh", "", "x N,9", false}, {"hardtanh", "\"min\":-0.5,\"max\":2", "x N,9", false},
    {"threshold", "\"threshold\":0.3,\"value\":-2", "x N,19", false}, {"logsigmoid", "", "x N,9", false},
    {"softshrink", "\"lambda\":0.7", "x N,19", false}, {"tanhshrink", "", "x N,9", false},
    {"quick_gelu", "", "x N,9", false}, {"softmin", "", "x N,3,4", false}, {"prelu", "", "x N,3,4;p 1", false},
    {"prelu", "", "x N,3,4;p 3", false}, {"prelu", "", "x N,5;p 5", false}, {"glu", "", "x N,3,8", false},
    {"glu", "\"axis\":1", "x N,6,4", false}, {"dropout", "", "x N,8", false},
    {"add", "", "x N,3,4;x N,3,4", false}, {"add", "", "x N,3,4;p 4", false}, {"sub", "", "x N,3,1;x N,1,4", false},
    {"mul", "", "x N,3,4;b 3,1", false}, {"div", "", "x N,3;b 3", false}, {"maximum", "", "x N,9;x N,9", false},
    {"minimum", "", "x N,9;x N,9", false}, {"power", "", "a N,9;p 9", false},
    {"expand_as", "", "x N,3,1;x N,3,4", false}, {"equal", "", "x N,30;x N,30", false},
    {"not_equal", "", "x N,9;x N,9", false}, {"less", "", "x N,9;x N,9", false},
    {"less_equal", "", "x N,9;x N,9", false}, {"greater", "", "x N,9;x N,9", false},
    {"greater_equal", "", "x N,9;x N,9", false}, {"where", "", "x N,9;x N,9;x N,9", false},
    {"exp", "", "x N,9", false}, {"log", "", "a N,9", false}, {"sqrt", "", "a N,9", false},
    {"abs", "", "x N,9", false},
    {"neg", "", "x N,9", false}, {"erf", "", "x N,9", false}, {"detach", "", "x N,9", false},
    {"pow", "\"exponent\":3", "x N,9", false}, {"clamp", "\"min\":-0.5,\"max\":\"inf\"", "x N,9", false},
    {"clamp", "\"min\":\"-inf\",\"max\":0.25", "x N,9", false},
    {"affine", "\"scale\":-2,\"shift\":0.5", "x N,9", false},
    {"affine", "\"scale\":1,\"shift\":3", "x N,9", false}, {"affine", "\"scale\":3", "x N,9", false},
    {"floor", "", "x N,9", false}, {"ceil", "", "x N,9", false}, {"round", "", "x N,9", false},
    {"sign", "", "x N,9", false}, {"to_f32", "", "i N,9", false},
    {"mean", "\"axes\":[1],\"count\":1", "x N,3,4", false}, {"mean", "", "a N,3,4", true},
    {"sum", "\"axes\":[-1,1],\"count\":2,\"keep\":true", "x N,3,4", false},
    {"amax", "\"axes\":[2],\"count\":1", "x N,3,4", false}, {"amin", "\"axes\":[2],\"count\":1", "x N,3,4", false},
    {"prod", "\"axes\":[1],\"count\":1", "x N,3,4", false},
    {"norm", "\"axes\":[1],\"count\":1,\"keep\":true", "x N,3,4", false},
    {"logsumexp", "\"axes\":[2],\"count\":1", "x N,3,4", false},
    {"flatten", "", "x N,3,2,2", false}, {"reshape", "\"rank\":3,\"size\":[2,-1,2]", "x N,3,4", false},
    {"reshape", "\"rank\":3,\"size\":[-2,2,3]", "x N,L,6", false},
    {"permute", "\"axes\":[0,3,1,2]", "x N,3,4,5", false},
    {"permute", "\"axes\":[0,2,1]", "x N,L,6", false}, {"concat", "\"axis\":1", "x N,3,4;x N,1,4;x N,2,4", false},
    {"concat", "\"axis\":2", "x N,L,4;x N,L,1", false},
    {"slice", "\"start\":[0,1,1],\"stop\":[0,0,7],\"step\":[1,1,3]", "x N,3,8", false},
    {"tile", "\"repeats\":[1,2,3]", "x N,3,2", false},
    {"pad", "\"before\":[0,1,2],\"after\":[0,0,1],\"value\":0.5", "x N,3,4", false},
    {"pad", "\"before\":[0,0,2],\"after\":[0,0,1],\"mode\":1", "x N,3,4", false},
    {"pad", "\"before\":[0,0,2],\"after\":[0,0,1],\"mode\":2", "x N,3,4", false},
    {"pad", "\"before\":[0,0,2,1],\"after\":[0,0,1,0],\"mode\":3", "x N,2,3,4", false},
    {"gather", "\"axis\":1", "x N,3,4;i N,5,4", false}, {"gather", "\"axis\":1", "x N,4,3;i N,2", true},
    {"gather", "\"axis\":2", "x N,2,4,3;i N,2,3", true}, {"matmul", "", "x N,3,4;x N,4,2", false},
    {"matmul", "\"transpose_a\":true,\"transpose_b\":true", "x N,2,4,3;x N,2,5,4", false},
    {"cumsum", "\"axis\":1", "x N,4,3", false}, {"cumsum", "\"exclusive\":true,\"reverse\":true", "x N,4,3", false},
    {"resize", "\"size\":[7,5]", "x N,2,4,3", false}, {"resize", "\"scale\":[2,2],\"mode\":1", "x N,2,4,3", false},
    {"resize", "\"size\":[7,5],\"mode\":1,\"coordinates\":3", "x N,2,4,3", false},
    {"resize", "\"size\":[3,0],\"coordinates\":1,\"rounding\":2", "x N,2,8", false},
    {"conv2d", "\"stride\":[2,1],\"padding\":[1,0,2,1],\"dilation\":[1,2]", "x N,3,7,8;p 4,3,3,2;p 4", false},
    {"conv2d", "\"same\":true,\"stride\":[2,2],\"groups\":2", "x N,4,7,8;p 6,2,3,4", false},
    {"conv1d", "\"stride\":[1,2],\"padding\":[0,2,0,1]", "x N,3,9;p 4,3,3;p 4", false},
    {"conv1d", "\"same\":true,\"dilation\":[1,2]", "x N,3,L;p 4,3,4;p 4", false},
    {"conv1d", "\"padding\":[0,2,0,0],\"groups\":3", "x N,3,L;p 3,1,3", false},
    {"conv_transpose2d", "\"stride\":[2,3],\"padding\":[1,0,0,1],\"output_padding\":[1,0]", "x N,4,3,4;p 4,2,3,4;p 2", false},
    {"conv_transpose2d", "\"stride\":[2,2],\"same\":true,\"groups\":2", "x N,4,3,4;p 4,3,3,1", false},
    {"linear", "", "x N,6;p 4,6;p 4", false}, {"linear", "", "x N,6;p 4,6", false},
    {"linear", "", "x N,L,6;p 4,6;p 4", false},
    {"linear", "", "x N,2,3,6;p 4,6", false}, {"batch_norm", "\"eps\":0.01", "x N,3,4,2;p 3;p 3;b 3;b 3", false},
    {"batch_norm", "", "x N,3;p 3;p 3;b 3;b 3", false}, {"layer_norm", "\"eps\":0.01", "x N,3,8;p 8;p 8", false},
    {"rms_norm", "\"eps\":0.01", "x N,L,8;p 8", false}, {"rms_norm", "", "x N,L,8;p 4", false},
    {"group_norm", "\"groups\":2,\"eps\":0.01", "x N,4,3,5;p 4;p 4", false},
    {"group_norm", "\"groups\":4", "x N,4,L;p 4;p 4", true},
    {"group_norm", "\"groups\":2", "x N,6", false},
    {"max_pool2d", "\"kernel\":[3,2],\"stride\":[2,2],\"padding\":[1,0,1,1]", "x N,2,7,6", false},
    {"max_pool2d", "\"kernel\":[3,3],\"stride\":[2,2],\"ceil_mode\":true", "x N,2,6,8", false},
    {"max_pool2d", "\"kernel\":[3,3],\"stride\":[2,2],\"same\":true", "x N,2,6,7", false},
    {"avg_pool2d", "\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1,1,1]", "x N,2,7,7", false},
    {"avg_pool2d", "\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1,1,1],\"exclude_padding\":true", "x N,2,7,7", false},
    {"avg_pool2d", "\"kernel\":[3,3],\"stride\":[2,2],\"padding\":[1,1,1,1],\"ceil_mode\":true", "x N,2,6,8", false},
    {"avg_pool2d", "\"kernel\":[2,3],\"stride\":[2,2],\"same\":true", "x N,2,5,6", false},
    {"global_avg_pool", "", "x N,3,4,5", false}, {"global_max_pool", "", "x N,3,4,5", false},
    {"embedding", "", "i N,L;p 5,4", false}, {"embedding", "", "i N;p 5,4", false},
    {"add_positions", "", "x N,L,4;p 9,4", false}, {"add_positions", "\"first\":2", "x N,L,4;p 9,4", false},
    {"add_positions", "\"first\":1", "x N,3,4;p 9,4", false}, {"add_positions", "", "x N,L,4;p 9,4;i N,L", false},
    {"rotary", "\"heads\":2", "x N,L,12", true},
    {"rotary", "\"heads\":2,\"dimensions\":4,\"base\":500", "x N,L,12;i N,L", true},
    {"rotary", "\"heads\":2,\"interleaved\":true", "x N,L,12", true},
    {"rotary", "\"heads\":2,\"interleaved\":true,\"dimensions\":4", "x N,6,12", true},
    {"rotary", "\"heads\":1,\"scaling\":2,\"factor\":8,\"original_length\":16", "x N,L,12", true},
    {"attention", "\"heads\":2", "x N,L,8;x N,L,8;x N,L,6", false},
    {"attention", "\"heads\":2,\"causal\":true", "x N,L,24", true},
    {"attention", "\"heads\":4,\"key_value_heads\":2,\"scale\":0.3", "x N,L,16;x N,L,8;x N,L,6", true},
    {"attention", "\"heads\":4,\"key_value_heads\":2,\"causal\":true", "x N,L,32;k N", true},
    {"attention", "\"heads\":2", "x N,L,8;x N,L,8;x N,L,6;k N", false},
    {"attention", "\"heads\":2,\"causal\":true,\"all_queries\":true", "x N,4,8;x N,L,8;x N,L,6;k N", true},
    {"attention", "\"heads\":2,\"causal\":true", "x N,6,8;x N,4,8;x N,4,6", false},
    {"attention", "\"heads\":2,\"causal\":true", "x N,3,8;x N,5,8;x N,5,6", false},
    {"attention", "\"heads\":2,\"causal\":true", "x N,L,8;x N,L,8;x N,L,6;k N;i N,L", true},
    {"attention", "\"heads\":4,\"key_value_heads\":2,\"causal\":true", "x N,L,8;x N,L,4;x N,L,6;i N,L", true},
    {"lstm", "\"hidden\":3", "x N,L,4;p 12,4;p 12,3;p 12;p 12", false},
    {"lstm", "\"hidden\":3,\"bidirectional\":true,\"lengths\":true", "x N,L,4;p 12,4;p 12,3;p 12;p 12;p 12,4;p 12,3;p 12;p 12;k N", true},
    {"lstm", "\"hidden\":3,\"no_bias\":true,\"initial\":true", "x N,L,4;p 12,4;p 12,3;x N,3;x N,3", false},
    {"gru", "\"hidden\":3,\"bidirectional\":true", "x N,L,4;p 9,4;p 9,3;p 9;p 9;p 9,4;p 9,3;p 9;p 9", false},
    {"gru", "\"hidden\":3,\"lengths\":true,\"initial\":true", "x N,L,4;p 9,4;p 9,3;p 9;p 9;k N;x N,3", true},
    {"gru", "\"hidden\":3,\"reset_before\":true,\"bidirectional\":true,\"initial\":true",
     "x N,L,4;p 9,4;p 9,3;p 9;p 9;p 9,4;p 9,3;p 9;p 9;x N,6", false},
    {"gru", "\"hidden\":3,\"reset_before\":true,\"no_bias\":true,\"lengths\":true", "x N,L,4;p 9,4;p 9,3;k N", true},
    {"rnn", "\"hidden\":3", "x N,L,4;p 3,4;p 3,3;p 3;p 3", false},
    {"rnn", "\"hidden\":3,\"relu\":true,\"bidirectional\":true", "x N,L,4;p 3,4;p 3,3;p 3;p 3;p 3,4;p 3,3;p 3;p 3", false},
    {"step_pool", "", "x N,L,4", false}, {"step_pool", "\"bidirectional\":true", "x N,L,4", false},
    {"step_pool", "\"kind\":1", "x N,L,4", false}, {"step_pool", "\"kind\":2", "x N,L,4", false},
    {"step_pool", "\"kind\":4", "x N,L,4", false}, {"step_pool", "", "x N,L,4;k N", true},
    {"step_pool", "\"bidirectional\":true", "x N,L,4;k N", true}, {"step_pool", "\"kind\":1", "x N,L,4;k N", true},
    {"step_pool", "\"kind\":2", "x N,L,4;k N", false}, {"step_pool", "\"kind\":4", "x N,L,4;k N", false},
    {"token_counts", "\"words\":4", "i N,L", true},
    {"token_counts", "\"words\":4", "i N,L;k N", true}, {"topk", "\"count\":2", "x N,6", false},
    {"topk", "\"axis\":1,\"drop_axis\":true,\"smallest\":true", "x N,6,3", false},
    {"glu", "\"axis\":-1", "x N,3,8", false}};

enum { ONNX_CASES = sizeof onnx_cases / sizeof *onnx_cases };

typedef struct onnx_network { const char *name; ft_network_options options; bool unread; } onnx_network;

/* All names of ft_network; the large ones, from ONNX_QUICK on, only for onnx_out. */
static const onnx_network onnx_networks[] = {
    {"resnet20", {.classes = 10, .image_size = 16}, false},
    {"mobilenet_v1", {.classes = 7, .image_size = 32, .width = 0.25f}, false},
    {"vit", {.classes = 4, .image_size = 32, .hidden = 24, .layers = 2, .heads = 3, .patch_size = 8}, true},
    {"deit", {.classes = 4, .image_size = 32, .hidden = 24, .layers = 2, .heads = 3, .patch_size = 8}, true},
    {"dinov2", {.classes = 4, .image_size = 28, .hidden = 24, .layers = 2, .heads = 3, .patch_size = 14}, true},
    {"lstm_classifier", {.classes = 3, .words = 20, .embedding = 6, .hidden = 5, .layers = 2, .bidirectional = true}, true},
    {"gru_classifier", {.classes = 3, .words = 20, .embedding = 6, .hidden = 5, .pooling = FT_POOL_ALL}, true},
    {"bert", {.classes = 3, .words = 20, .hidden = 24, .layers = 2, .heads = 3, .positions = 16}, true},
    {"roberta", {.classes = 3, .words = 20, .hidden = 24, .layers = 2, .heads = 3, .positions = 16}, true},
    {"distilbert", {.classes = 3, .words = 20, .hidden = 24, .layers = 2, .heads = 3, .positions = 16}, true},
    {"gpt2", {.words = 20, .hidden = 24, .layers = 2, .heads = 3, .positions = 16}, true},
    {"gpt2", {.classes = 3, .words = 20, .hidden = 24, .layers = 2, .heads = 3, .positions = 16}, true},
    {"llama", {.words = 20, .hidden = 24, .layers = 2, .heads = 4, .key_value_heads = 2, .feed_forward = 40}, true},
    {"qwen2", {.words = 20, .hidden = 24, .layers = 2, .heads = 4, .key_value_heads = 2, .feed_forward = 40}, true},
    {"qwen3", {.words = 20, .hidden = 24, .layers = 2, .heads = 4, .key_value_heads = 2, .feed_forward = 40}, true},
    {"meta_llama", {.words = 20, .hidden = 24, .layers = 2, .heads = 4, .key_value_heads = 2, .feed_forward = 40}, true},
    {"char_rnn", {.words = 11, .hidden = 6}, true}, {"lstm_lm", {.words = 11, .embedding = 6, .hidden = 6}, true},
    {"resnet18", {.classes = 5, .image_size = 64}, false}, {"resnet34", {.classes = 5, .image_size = 64}, false},
    {"resnet50", {.classes = 5, .image_size = 64}, false}, {"resnet32", {.classes = 10}, false},
    {"resnet44", {.classes = 10}, false},
    {"resnet56", {.classes = 10}, false}, {"keras_cnn", {.classes = 3, .image_size = 32}, false}};

enum { ONNX_NETWORKS = sizeof onnx_networks / sizeof *onnx_networks, ONNX_QUICK = ONNX_NETWORKS - 7 };

static uint64_t onnx_random;

static double onnx_uniform(void)
{
    onnx_random = onnx_random * 6364136223846793005u + 1442695040888963407u;
    return (double)(onnx_random >> 11) / 9007199254740992.0;
}

/* Builds the network of one operator. */
static inline void build_onnx_case(ft_model *m, const onnx_case *c)
{
    char text[4000], list[300] = "", sizes[80];
    const char *at = c->inputs;
    int used = snprintf(text, sizeof text, "{\"nodes\":["), number = 0;
    while (*at) {
        char kind = *at;
        int count = 0;
        for (at += 2; *at && *at != ';'; ++at) {
            if (strchr("NL", *at)) sizes[count++] = '"';
            sizes[count++] = *at;
            if (strchr("NL", *at)) sizes[count++] = '"';
        }
        sizes[count] = 0;
        at += *at == ';';
        used += snprintf(text + used, sizeof text - (size_t)used, "{\"op\":\"%s\",\"name\":\"%c%d\"%s,\"shape\":[%s]},",
                         kind == 'p' ? "parameter" : kind == 'b' ? "buffer" : "input", kind, number,
                         kind == 'i' || kind == 'k' ? ",\"type\":\"I32\"" : "", sizes);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s\"%c%d\"", number ? "," : "", kind, number);
        number += 1;
    }
    snprintf(text + used, sizeof text - (size_t)used, "{\"op\":\"%s\",\"name\":\"y\",\"inputs\":[%s]%s%s}],\"output\":\"y\"}",
             c->op, list, *c->fields ? "," : "", c->fields);
    ft_load_graph(m, "case.json", (ft_graph_options){.memory = text, .bytes = strlen(text)});
}

static inline size_t onnx_numbers(const ft_model *m, ft_node node)
{
    ft_shape s = ft_node_shape(m, node);
    size_t count = 1;
    int d;
    for (d = 0; d < s.rank; ++d)
        count *= (size_t)(s.size[d] == FT_BATCH ? CASE_BATCH : s.size[d] == FT_LENGTH ? CASE_STEPS : s.size[d]);
    return count;
}

/* Draws weights: vectors and matrices about 1 / sqrt(columns), biases and what is near 1 as networks have
   them, so that outputs are of order 1 and differ. */
static inline void draw_onnx_weights(ft_model *m)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *op = ft_node_operator(m, node), *name = ft_node_name(m, node);
        bool parameter = !strcmp(op, "parameter"), buffer = !strcmp(op, "buffer");
        size_t count = parameter || buffer ? onnx_numbers(m, node) : 0, i;
        ft_shape s = ft_node_shape(m, node);
        float *values = (float *)calloc(count + 1, sizeof *values);
        double scale = s.rank > 1 ? sqrt(3.0 * s.size[0] / (double)(count ? count : 1)) : 0.3;
        bool near_one = buffer ? !strstr(name, "mean") : s.rank == 1 && !strstr(name, "bias") && strstr(name, "weight");
        for (i = 0; i < count; ++i)
            values[i] = (float)(near_one ? 0.5 + onnx_uniform() : scale * (2 * onnx_uniform() - 1));
        if (count) ft_set(m, node, values, count);
        free(values);
    }
}

/* Builds case number `i`, with weights drawn; returns its name. */
static inline const char *make_onnx_case(ft_model *m, int i)
{
    onnx_random = 7 + (uint64_t)i;
    if (i < ONNX_CASES) build_onnx_case(m, &onnx_cases[i]);
    else ft_network(m, onnx_networks[i - ONNX_CASES].name, onnx_networks[i - ONNX_CASES].options);
    draw_onnx_weights(m);
    return i < ONNX_CASES ? onnx_cases[i].op : onnx_networks[i - ONNX_CASES].name;
}

/* Feeds input number `number` of the model's inputs, but labels: [values] of floats or int32_t. Returns its
   node; {0}: there are no more. */
static inline ft_node onnx_input(ft_model *m, int number)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *op = ft_node_operator(m, node), *name = ft_node_name(m, node);
        if ((strcmp(op, "input") && strcmp(op, "state")) || !strcmp(name, "labels")) continue;
        if (number-- == 0) return node;
    }
    node.id = 0;
    return node;
}

/* Numbers for an input: integers are small, lengths from 2 to CASE_STEPS with one that is full. */
static inline void draw_onnx_input(ft_model *m, ft_node node, float *floats, int32_t *integers)
{
    size_t count = onnx_numbers(m, node), i;
    const char *name = ft_node_name(m, node);
    bool lengths = name[0] == 'k' || !strcmp(name, "lengths");
    for (i = 0; i < count; ++i) {
        floats[i] = (float)(4 * onnx_uniform() - 2);
        if (floats[i] > 1) floats[i] = 1.75f; /* some are equal */
        if (name[0] == 'a') floats[i] = fabsf(floats[i]) + 0.1f;
        integers[i] = lengths ? (i ? 2 : CASE_STEPS) : (int32_t)(onnx_uniform() * 3);
    }
}

#endif
