/* test_graphs.c - networks described in JSON: written by hand, printed, edited, and damaged. Oracle:
   the same network built by the functions of C, whose weights have the same names and so the same
   first values. */
#include "finetune.h"
#include "public.h"
#include "check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ft_model *new_model(unsigned long long seed)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.seed = seed;
    return ft_create(desc);
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = (char *)calloc(1, 1 << 20);
    size_t size = file && text ? fread(text, 1, (1 << 20) - 1, file) : 0;
    if (file) fclose(file);
    CHECK(size > 0, "%s cannot be read", path);
    return text;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fputs(text, file) >= 0, "%s cannot be written", path);
    if (file) fclose(file);
}

/* Example `number` of docs/networks.md. */
static char *example(int number)
{
    char *text = read_text("docs/networks.md"), *from = text, *end;
    for (; from && number >= 0; --number) from = strstr(from + 1, "```json\n");
    end = from ? strstr(from + 8, "```") : NULL;
    CHECK(end != NULL, "docs/networks.md has no such example");
    if (!end) return text;
    *end = 0;
    memmove(text, from + 8, strlen(from + 8) + 1);
    return text;
}

static ft_status load_text(ft_model *m, const char *text)
{
    ft_graph_options options;
    memset(&options, 0, sizeof options);
    options.memory = text;
    options.bytes = strlen(text);
    return ft_load_graph(m, "net.json", options);
}

static ft_model *loaded(const char *text, unsigned long long seed)
{
    ft_model *m = new_model(seed);
    CHECK(load_text(m, text) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* ---- What a network computes ---- */

enum { BATCH = 3, STEPS = 4, MOST = 1 << 16 };

/* Feeds every input: numbers, labels and lengths that depend on the input's name only. */
static void feed(ft_model *m)
{
    static float values[MOST];
    static int whole[MOST];
    ft_node node;
    ft_set_length(m, STEPS);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        ft_shape shape = ft_node_shape(m, node);
        const char *name = ft_node_name(m, node);
        size_t count = BATCH, i;
        int d;
        if (strcmp(ft_node_operator(m, node), "input") != 0) continue;
        for (d = 1; d < shape.rank; ++d)
            count *= (size_t)(shape.size[d] == FT_LENGTH ? STEPS : shape.size[d]);
        for (i = 0; i < count; ++i) {
            values[i] = (float)((i * 37 + (size_t)name[0]) % 101) / 50.0f - 1.0f;
            whole[i] = !strcmp(name, "lengths") ? STEPS - (int)(i % 3) : (int)(i % 2);
        }
        if (ft_node_type(m, node) == FT_I32) ft_feed(m, node, whole, BATCH);
        else ft_feed(m, node, values, BATCH);
    }
}

static size_t output_count(const ft_model *m)
{
    ft_shape shape = ft_node_shape(m, ft_output(m));
    size_t count = BATCH;
    int d;
    for (d = 1; d < shape.rank; ++d)
        count *= (size_t)(shape.size[d] == FT_LENGTH ? STEPS : shape.size[d]);
    return count;
}

/* The logits, in memory to be freed. */
static float *logits(ft_model *m)
{
    float *values = (float *)calloc(output_count(m) + 1, sizeof *values);
    ft_reset_state(m, "*");
    feed(m);
    ft_forward(m, false);
    ft_get(m, ft_output(m), values, output_count(m));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return values;
}

static void same_logits(ft_model *a, ft_model *b, const char *what)
{
    float *x = logits(a), *y = logits(b);
    size_t count = output_count(a), i, unequal = 0;
    double sum = 0;
    CHECK(count == output_count(b), "%s: outputs of %zu and %zu numbers", what, count, output_count(b));
    for (i = 0; i < count && count == output_count(b); ++i) {
        unequal += memcmp(&x[i], &y[i], sizeof *x) != 0;
        sum += fabs((double)x[i]);
    }
    CHECK(unequal == 0 && sum > 0, "%s: %zu of %zu logits differ, sum %g", what, unequal, count, sum);
    free(x);
    free(y);
}

static float step(ft_model *m)
{
    ft_optimizer_options sgd;
    float loss = 0;
    memset(&sgd, 0, sizeof sgd);
    sgd.optimizer = FT_SGD;
    ft_set_optimizer(m, sgd);
    feed(m);
    ft_forward(m, true);
    ft_get(m, ft_loss(m), &loss, 1);
    ft_backward(m);
    ft_update(m, 0.1f);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return loss;
}

/* Two networks that shall be the same: before and after two steps of training. */
static void same_training(ft_model *a, ft_model *b, const char *what)
{
    float first = step(a), second;
    CHECK(first == step(b) && first > 0.1f, "%s: losses", what);
    second = step(a);
    CHECK(second == step(b) && second < first, "%s: %g, then %g", what, (double)first, (double)second);
    same_logits(a, b, what);
}

/* ---- By hand ---- */

static void finish(ft_model *m, ft_node x, int classes)
{
    ft_linear_options linear;
    ft_loss_options loss;
    ft_node output;
    memset(&linear, 0, sizeof linear);
    memset(&loss, 0, sizeof loss);
    output = ft_linear(m, "fc", x, classes, linear);
    ft_set_output(m, output);
    ft_set_loss(m, ft_cross_entropy(m, "loss", output, add_input(m, "labels", FT_I32, 0, 0, 0), loss));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

static ft_model *cnn_in_c(unsigned long long seed)
{
    ft_model *m = new_model(seed);
    ft_conv2d_options conv;
    ft_pool2d_options pool;
    ft_activation_options none;
    ft_node x = add_input(m, "input", FT_F32, 3, 8, 8);
    memset(&conv, 0, sizeof conv);
    memset(&pool, 0, sizeof pool);
    memset(&none, 0, sizeof none);
    conv.kernel[0] = 3;
    conv.padding[0] = conv.padding[1] = conv.padding[2] = conv.padding[3] = 1;
    pool.kernel[0] = 2;
    x = ft_activation(m, "relu", "relu", ft_conv2d(m, "conv", x, 4, conv), none);
    finish(m, ft_flatten(m, "flat", ft_max_pool2d(m, "pool", x, pool)), 2);
    return m;
}

static ft_model *lstm_in_c(unsigned long long seed)
{
    ft_model *m = new_model(seed);
    ft_embedding_options embedding;
    ft_recurrent_options recurrent;
    ft_step_pool_options last;
    ft_node tokens = add_input(m, "tokens", FT_I32, FT_LENGTH, 0, 0);
    ft_node lengths = add_input(m, "lengths", FT_I32, 0, 0, 0), x;
    memset(&embedding, 0, sizeof embedding);
    memset(&recurrent, 0, sizeof recurrent);
    memset(&last, 0, sizeof last);
    x = ft_embedding(m, "embedding", tokens, 50, 6, embedding);
    recurrent.lengths = lengths;
    x = ft_lstm(m, "lstm", x, 5, recurrent);
    finish(m, ft_step_pool(m, "last", x, lengths, last), 3);
    return m;
}

static void test_by_hand(void)
{
    char *cnn = example(0), *lstm = example(1);
    ft_model *a = cnn_in_c(7), *b = loaded(cnn, 7);
    CHECK(ft_class_count(b) == 2 && !strcmp(ft_class_name(b, 1), "dog")
          && ft_get_preprocessing(b).width == 8 && ft_get_preprocessing(b).std[2] == 1, "the example's facts");
    same_training(a, b, "a CNN by hand");
    ft_destroy(a);
    ft_destroy(b);
    a = lstm_in_c(8);
    b = loaded(lstm, 8);
    same_training(a, b, "an LSTM by hand");
    ft_destroy(a);
    ft_destroy(b);
    free(cnn);
    free(lstm);
}

/* ---- There and back ---- */

static char *copied(const char *text)
{
    char *copy = (char *)malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* The network of `m` from its text and a file of weights, in both ways: same logits, same text. */
static void round_trip(ft_model *m, const char *what)
{
    ft_save_options weights_only;
    ft_load_options load;
    ft_weights_options weights;
    ft_model *from_file = new_model(99), *from_text = new_model(98);
    const char *again;
    char *text = NULL;
    memset(&weights_only, 0, sizeof weights_only);
    memset(&load, 0, sizeof load);
    memset(&weights, 0, sizeof weights);
    weights_only.weights_only = true;
    load.architecture = "build/graphs.json";
    CHECK(ft_graph_text(m) != NULL, "%s: %s", what, ft_error_text(m));
    if (!ft_graph_text(m)) return;
    text = copied(ft_graph_text(m));
    write_text("build/graphs.json", text);
    CHECK(ft_save(m, "build/graphs.safetensors", weights_only) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_load(from_file, "build/graphs.safetensors", load) == FT_OK, "%s: %s", what,
          ft_error_text(from_file));
    same_logits(m, from_file, what);
    CHECK(load_text(from_text, text) == FT_OK
          && ft_load_weights(from_text, "build/graphs.safetensors", weights) == FT_OK, "%s: %s", what,
          ft_error_text(from_text));
    same_logits(m, from_text, what);
    again = ft_graph_text(from_text);
    CHECK(again && !strcmp(text, again), "%s: another text:\n%s", what, again ? again : ft_error_text(from_text));
    ft_destroy(from_file);
    ft_destroy(from_text);
    free(text);
}

static void test_round_trips(void)
{
    static const char *const names[] = {"resnet20", "mobilenet_v1", "keras_cnn", "lstm_classifier",
                                        "gru_classifier", "char_rnn", "lstm_lm"};
    ft_save_options whole;
    ft_load_options load;
    ft_model *m, *again;
    size_t i;
    memset(&whole, 0, sizeof whole);
    memset(&load, 0, sizeof load);
    for (i = 0; i < sizeof names / sizeof names[0]; ++i) {
        ft_network_options o;
        memset(&o, 0, sizeof o);
        o.classes = 3;
        if (i < 3) o.image_size = 48;
        if (i == 1) o.width = 0.25f;
        if (i > 2) {
            o.words = 20;
            o.embedding = o.hidden = 6;
            o.bidirectional = i == 4;
            o.pooling = i == 3 ? FT_POOL_ALL : FT_POOL_LAST;
            o.dropout = i == 3 ? 0.3f : 0;
            o.tied = i == 6;
        }
        m = new_model(3);
        ft_network(m, names[i], o);
        ft_freeze(m, "*conv1*,*l0*");
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        round_trip(m, names[i]);
        ft_destroy(m);
    }
    m = loaded("{\"nodes\":[{\"op\":\"input\",\"name\":\"input\",\"shape\":[\"N\",4]},"
               "{\"op\":\"constant\",\"name\":\"c\",\"shape\":[4],\"values\":[1,-2,0.5,3]},"
               "{\"op\":\"clamp\",\"name\":\"low\",\"inputs\":[\"input\"],\"min\":\"-inf\",\"max\":0.25},"
               "{\"op\":\"mul\",\"name\":\"y\",\"inputs\":[0,\"c\"]},"
               "{\"op\":\"add\",\"name\":\"z\",\"inputs\":[2,3]}],\"output\":\"z\"}", 1);
    round_trip(m, "infinite bounds");
    again = new_model(2); /* a model file: such a clamp could be saved, but not loaded again */
    CHECK(ft_save(m, "build/graphs.safetensors", whole) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_load(again, "build/graphs.safetensors", load) == FT_OK, "%s", ft_error_text(again));
    same_logits(m, again, "infinite bounds, from a model file");
    ft_destroy(again);
    again = new_model(2); /* only the network of a model file */
    CHECK(ft_load_graph(again, "build/graphs.safetensors", (ft_graph_options){NULL, 0}) == FT_FORMAT
          && strstr(ft_error_text(again), "c: values must be as many numbers as its shape has"), "%s",
          ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* ---- An edited description ---- */

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *result = (char *)calloc(1, strlen(text) + strlen(to) + 1);
    CHECK(at != NULL, "%s is not in the text", from);
    if (!at) return result;
    memcpy(result, text, (size_t)(at - text));
    strcat(strcat(result, to), at + strlen(from));
    return result;
}

static void test_edited(void)
{
    char *text = example(0), *elu = replaced(text, "\"op\":\"relu\"", "\"op\":\"elu\",\"alpha\":0.5");
    ft_activation_options half;
    ft_model *a = cnn_in_c(7), *b = loaded(elu, 7);
    memset(&half, 0, sizeof half);
    half.alpha = 0.5f;
    ft_swap_activations(a, "relu", "elu", half);
    same_training(a, b, "an edited CNN");
    ft_destroy(a);
    ft_destroy(b);
    free(elu);
    free(text);
}

/* ---- Faults: one clear line each ---- */

static void test_faults(void)
{
    static const struct { int example; const char *from, *to, *says; } rows[] = {
        {0, "\"op\":\"relu\"", "\"op\":\"rely\"",
         "net.json: the network's description: relu: op must be the name of an operator, which \"rely\" is not"},
        {0, "\"name\":\"pool\"", "\"name\":\"\"", "node 6: name must be a text that is not empty"},
        {0, "\"padding\"", "\"paddding\"", "conv: unknown field \"paddding\"; it must be one of op, name,"
         " inputs, frozen, stride, padding, dilation, groups, same"},
        {0, "\"padding\":[1,1,1,1]", "\"padding\":1", "conv: padding must be a list of 4 whole numbers"},
        {0, "\"padding\":[1,1,1,1]", "\"padding\":[1,1]", "conv: padding must be a list of 4 whole numbers"},
        {0, "\"padding\":[1,1,1,1]", "\"padding\":[1,1,1,0.5]", "conv: padding must be a list of 4 whole numbers"},
        {0, "\"padding\":[1,1,1,1]", "\"groups\":true", "conv: groups must be a whole number"},
        {0, "\"padding\":[1,1,1,1]", "\"same\":2", "conv: same must be true or false"},
        {0, "[\"input\",\"conv.weight\",\"conv.bias\"]", "[\"input\"]",
         "conv: inputs must be 2 to 3 names of nodes, but there are 1"},
        {0, "[\"pool\"]", "[\"flat\"]", "flat: input 1, \"flat\", is no node before it"},
        {0, "[\"pool\"]", "\"pool\"", "flat: inputs must be 1 to 1 names"},
        {0, "[2,64]", "[2,65]", "fc:"},
        {0, "[4,3,3,3]", "[4,3,3,0]", "conv.weight: shape must be a list of up to 6 whole numbers above 0"},
        {0, "[\"N\",3,8,8]", "[1,3,8,\"M\"]", "input: shape must be a list of sizes: \"N\" first"},
        {0, "\"type\":\"I32\"", "\"type\":\"I64\"", "labels: type must be \"F32\" or \"I32\""},
        {0, "[4],\"fan\":[27,36]", "[4],\"initialiser\":\"orthogonal\"", "conv.bias: initialiser must be default,"},
        {0, "[4],\"fan\":[27,36]", "[4],\"fan\":27", "conv.bias: fan must be a list of 2"},
        {0, "\"output\":\"fc\"", "\"output\":\"fd\"", "the network: output must be the name of a node"},
        {0, "\"output\":\"fc\"", "\"output\":\"fc.bias\"", "the output is fc.bias, which is an input or a weight"},
        {0, "\"classes\":[\"cat\",\"dog\"]", "\"classes\":[\"cat\",2]", "classes must be a list of names"},
        {0, "\"classes\":[\"cat\",\"dog\"]", "\"classes\":[\"cat\"]", "1 names for the output's 2 classes"},
        {0, "\"classes\"", "\"clases\"", "the network: unknown field \"clases\"; it must be one of format,"},
        {0, "\"width\":8", "\"width\":-8", "preprocessing: width must be a whole number from 0 to 65535"},
        {0, "\"std\":[1,1,1]", "\"std\":\"1\"", "preprocessing: std must be a list of up to 4 numbers"},
        {0, "\"std\":[1,1,1]", "\"mean\":[0]", "std 0"},
        {0, "{\"nodes\":", "{\"format\":2,\"nodes\":", "a model file of format 2, but this version reads format 1"},
        {0, "{\"nodes\":", "{\"layers\":", "net.json: not a network's description, which has a list \"nodes\""},
        {0, "},\n{\"op\":\"relu\"", "}\n{\"op\":\"relu\"", "net.json: the network's description is not JSON at offset"},
        {0, "\"name\":\"relu\"", "\"name\":\"conv\"", "conv: the network already has a node of this name"},
        {1, "[20,6]", "[21,6]", "lstm:"},
        {1, "\"hidden\":5,\"lengths\":true", "\"hidden\":5", "lstm:"},
        {1, "\"hidden\":5", "\"hidden\":5.5", "lstm: hidden must be a whole number"}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        char *text = example(rows[i].example), *bad = replaced(text, rows[i].from, rows[i].to);
        ft_model *m = new_model(1);
        ft_status status = load_text(m, bad);
        CHECK((status == FT_FORMAT || status == FT_INVALID || status == FT_SHAPE)
              && strstr(ft_error_text(m), rows[i].says) && !strchr(ft_error_text(m), '\n'),
              "%s: \"%s\" is not in: %s", rows[i].to, rows[i].says, ft_error_text(m));
        CHECK(ft_node_count(m) == 0, "%s: half a network is left", rows[i].to);
        ft_destroy(m);
        free(bad);
        free(text);
    }
}

static void test_files(void)
{
    ft_load_options load;
    ft_model *m = cnn_in_c(5);
    ft_save_options weights_only;
    char *text = example(0);
    memset(&load, 0, sizeof load);
    memset(&weights_only, 0, sizeof weights_only);
    weights_only.weights_only = true;
    ft_save(m, "build/graphs.safetensors", weights_only);
    ft_destroy(m);
    write_text("build/graphs.json", text);

    m = new_model(1); /* a description alone has no weights, unless they may be drawn */
    CHECK(ft_load(m, "build/graphs.json", load) == FT_FORMAT && strstr(ft_error_text(m),
          "build/graphs.json: the weight conv.weight is missing: the file has none; allow_missing"), "%s",
          ft_error_text(m));
    ft_destroy(m);
    m = new_model(1);
    load.weights.allow_missing = true;
    CHECK(ft_load(m, "build/graphs.json", load) == FT_OK, "%s", ft_error_text(m));
    {
        ft_model *other = cnn_in_c(1);
        same_logits(m, other, "drawn weights");
        ft_destroy(other);
    }
    CHECK(ft_load_graph(m, "build/graphs.json", (ft_graph_options){NULL, 0}) == FT_INVALID
          && strstr(ft_error_text(m), "already has a network"), "%s", ft_error_text(m));
    ft_destroy(m);

    load.weights.allow_missing = false;
    load.architecture = "build/absent.json";
    m = new_model(1);
    CHECK(ft_load(m, "build/graphs.safetensors", load) == FT_IO && strstr(ft_error_text(m), "build/absent.json"),
          "%s", ft_error_text(m));
    ft_destroy(m);
    load.architecture = "build/graphs.safetensors";
    m = new_model(1);
    CHECK(ft_load(m, "build/graphs.safetensors", load) == FT_FORMAT
          && strstr(ft_error_text(m), "holds no description of a network"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model(1); /* the weights of another network are listed */
    free(text);
    text = example(1);
    write_text("build/graphs.json", text);
    load.architecture = "build/graphs.json";
    CHECK(ft_load(m, "build/graphs.safetensors", load) == FT_MISMATCH && ft_node_count(m) == 0
          && strstr(ft_error_text(m), "fc.weight [2, 64] instead of [3, 5]"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_graph_text(m) == NULL && strstr(ft_error_text(m), "the model is empty"), "%s", ft_error_text(m));
    ft_destroy(m);
    CHECK(ft_graph_text(NULL) == NULL && ft_load_graph(NULL, "x", (ft_graph_options){NULL, 0}) == FT_MEMORY,
          "no model");
    free(text);
}

/* What a file is, its reader says: bytes of no format, JSON of something else, options of another. */
static void test_readers(void)
{
    static const struct { const char *bytes, *state_dict, *says; } rows[] = {
        {"neither this nor that", NULL, "of no known format (safetensors, NumPy's .npy, "},
        {"", NULL, "its 0 bytes are of no known format"},
        {" \n{\"model_type\":\"bert\"}", NULL, "not a network's description, which has a list \"nodes\""},
        {"{\"nodes\":[]", NULL, "is not JSON at offset"},
        {"{\"nodes\":[]}", "ema", "state_dict has no effect here"}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_model *m = new_model(1);
        ft_load_options load;
        memset(&load, 0, sizeof load);
        load.weights.memory = rows[i].bytes;
        load.weights.bytes = strlen(rows[i].bytes);
        load.weights.state_dict = rows[i].state_dict;
        CHECK(ft_load(m, "x", load) != FT_OK && strstr(ft_error_text(m), rows[i].says), "%s: %s", rows[i].bytes,
              ft_error_text(m));
        ft_destroy(m);
    }
}

int main(void)
{
    test_by_hand();
    test_round_trips();
    test_edited();
    test_faults();
    test_files();
    test_readers();
    return check_done("test_graphs");
}
