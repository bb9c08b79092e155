/* targets.c - what the fuzzers run: each reader on some bytes, and then what a program would do
   with what was read. Public functions only. No target may crash, hang, read what is not its own,
   or need memory that the bytes do not justify; what it returns does not matter. */
#include "finetune.h"
#include "targets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUDGET = 64 << 20, MOST_NUMBERS = 1 << 16 };

/* ---- Files in memory: one that is read, and the last one that was written ---- */

static const uint8_t *file_bytes;
static size_t file_size;
static const char *file_end = "?"; /* paths that end so are the file */
static uint8_t written[16 << 20];
static size_t written_size;

static int ends_with(const char *path, const char *end)
{
    size_t a = strlen(path), b = strlen(end);
    return a >= b && strcmp(path + a - b, end) == 0;
}

static void *file_open(void *user, const char *path, bool write)
{
    (void)user;
    if (write) written_size = 0;
    return write || ends_with(path, file_end) ? (void *)&file_size : NULL;
}
static int64_t file_length(void *user, void *file)
{
    (void)user;
    (void)file;
    return (int64_t)file_size;
}
static size_t file_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    (void)file;
    if (offset >= file_size) return 0;
    if (bytes > file_size - (size_t)offset) bytes = file_size - (size_t)offset;
    memcpy(to, file_bytes + offset, bytes);
    return bytes;
}
static size_t file_write(void *user, void *file, const void *from, size_t bytes)
{
    (void)user;
    (void)file;
    if (bytes <= sizeof written - written_size) {
        memcpy(written + written_size, from, bytes);
        written_size += bytes;
    }
    return bytes;
}
static bool file_close(void *user, void *file) { (void)user; (void)file; return true; }
static bool file_rename(void *user, const char *from, const char *to)
{
    (void)user; (void)from; (void)to;
    return true;
}
static bool file_remove(void *user, const char *path) { (void)user; (void)path; return true; }
static const void *file_map(void *user, void *file, size_t bytes)
{
    (void)user; (void)file; (void)bytes;
    return NULL;
}
static void file_unmap(void *user, const void *memory, size_t bytes)
{
    (void)user; (void)memory; (void)bytes;
}
static bool file_list(void *user, const char *path,
                      void (*each)(void *context, const char *name, bool is_folder), void *context)
{
    (void)user; (void)path; (void)each; (void)context;
    return false;
}

static void hear(void *user, const char *line) { *(size_t *)user += strlen(line); }

static ft_model *model_with(const ft_hdf5 *hdf5)
{
    static size_t heard;
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.memory_budget = BUDGET;
    desc.log = hear;
    desc.log_user = &heard;
    desc.files.user = &heard;
    desc.files.open = file_open;
    desc.files.size = file_length;
    desc.files.read = file_read;
    desc.files.write = file_write;
    desc.files.close = file_close;
    desc.files.rename = file_rename;
    desc.files.remove = file_remove;
    desc.files.map = file_map;
    desc.files.unmap = file_unmap;
    desc.files.list = file_list;
    if (hdf5) desc.hdf5 = *hdf5;
    return ft_create(desc);
}
static ft_model *new_model(void) { return model_with(NULL); }

/* ---- What a program does with a network that it has read ---- */

/* A sample's numbers, of sequences of 3 steps; 0: more than are worth a run. */
static size_t numbers(const ft_model *m, ft_node node)
{
    ft_shape shape = ft_node_shape(m, node);
    size_t count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d) {
        int size = shape.size[d] == FT_BATCH ? 1 : shape.size[d] == FT_LENGTH ? 3 : shape.size[d];
        if (size < 0 || (size > 0 && count > MOST_NUMBERS / (size_t)size)) return 0;
        count *= (size_t)size;
    }
    return count;
}

static void use_network(ft_model *m, const uint8_t *data, size_t size)
{
    static float values[2 * MOST_NUMBERS], logits[2 * MOST_NUMBERS];
    ft_activation_options no_options;
    ft_save_options save;
    ft_prediction best[3];
    ft_node node;
    size_t i;
    double work = 0;
    memset(&no_options, 0, sizeof no_options);
    memset(&save, 0, sizeof save);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        ft_node inputs[4];
        work += (double)ft_node_multiply_adds(m, node);
        ft_node_inputs(m, node, inputs, 4);
        if (!numbers(m, node)) return;
    }
    if (!(work < 1e7) || ft_plan(m, 2, true).total > BUDGET / 2) return;
    for (i = 0; i < 2 * MOST_NUMBERS; ++i) values[i] = (float)(i % 5) * 0.25f;
    if (size > 0 && data[size / 2] & 1) memset(values, 0, sizeof values); /* also ids */
    if (size > 0 && data[size / 2] & 2) for (i = 0; i < 100; ++i) values[i] = -(float)i;
    ft_set_length(m, 3);
    if (ft_output(m).id && numbers(m, ft_output(m))) ft_run(m, values, 2, logits, 2 * numbers(m, ft_output(m)));
    ft_clear_error(m);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (strcmp(ft_node_operator(m, node), "input") == 0) ft_feed(m, node, values, 2);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 1e-3f);
    ft_clear_error(m);
    ft_predict_pixels(m, (const uint8_t *)values, 5, 4, 3, best, 3);
    ft_clear_error(m);
    ft_save(m, "saved.safetensors", save);
    ft_clear_error(m);
    ft_freeze(m, "*");
    ft_replace_head(m, 3);
    ft_swap_activations(m, "*", "elu", no_options);
    if (ft_output(m).id && numbers(m, ft_output(m))) ft_run(m, values, 1, logits, numbers(m, ft_output(m)));
}

static void load(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_load_options options;
    memset(&options, 0, sizeof options);
    options.weights.memory = data;
    options.weights.bytes = size;
    if (ft_load(m, "in.safetensors", options) == FT_OK) use_network(m, data, size);
    ft_destroy(m);
}

/* ---- Tensors: safetensors, PyTorch's zip and ONNX; and the network that they hold ---- */

/* Reads the first tensors of a file, NULL too, each in every way, and closes it. */
static void read_tensors(ft_model *m, ft_file *file)
{
    static float values[MOST_NUMBERS];
    int i;
    for (i = 0; file && i < ft_file_count(file) && i < 64; ++i) {
        ft_tensor_info info = ft_file_tensor(file, i);
        size_t count = 1;
        int d;
        for (d = 0; d < info.shape.rank && count <= MOST_NUMBERS; ++d)
            count *= (size_t)info.shape.size[d];
        ft_file_find(file, info.name);
        if (count <= MOST_NUMBERS) ft_file_read_f32(file, i, values, count);
        if (count * 4 <= sizeof values) ft_file_read(file, i, values, count * 4);
        ft_clear_error(m);
    }
    if (file) {
        ft_file_metadata(file, "finetune");
        ft_file_close(file);
    }
}

static void run_weights(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_weights_options options;
    memset(&options, 0, sizeof options);
    options.memory = data;
    options.bytes = size;
    read_tensors(m, ft_file_open(m, "in", options));
    ft_destroy(m);
    load(data, size);
}

/* ---- NumPy's arrays, as weights and as data; written again ---- */

static void run_numpy(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_weights_options from;
    ft_array_file_options arrays;
    ft_save_options save;
    ft_input_options in;
    ft_linear_options none;
    ft_data *samples;
    ft_predict_options predict;
    ft_prediction best[3];
    ft_file *file;
    memset(&from, 0, sizeof from);
    memset(&arrays, 0, sizeof arrays);
    memset(&save, 0, sizeof save);
    memset(&in, 0, sizeof in);
    memset(&none, 0, sizeof none);
    from.memory = arrays.memory = data;
    from.bytes = arrays.bytes = size;
    file = ft_file_open(m, "in", from);
    if (file) ft_file_save(file, size % 2 ? "saved.npz" : "saved.safetensors", save);
    ft_file_close(file);
    ft_clear_error(m);
    in.size[0] = in.size[2] = 3;
    in.size[1] = 2;
    ft_set_output(m, ft_linear(m, "fc", ft_flatten(m, NULL, ft_input(m, "input", in)), 3, none));
    samples = ft_array_file(m, "in", arrays);
    if (samples && ft_data_count(samples) == 1) {
        memset(best, 0, sizeof best);
        memset(&predict, 0, sizeof predict);
        ft_predict_data(m, samples, best, 3, predict);
    }
    ft_destroy(m);
    run_weights(data, size);
}

/* ---- TensorFlow's variables: two bytes say how long the index is; the rest is the data file ---- */

static void run_bundle(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_weights_options options;
    size_t index = size < 2 ? 0 : data[0] + 256u * data[1];
    memset(&options, 0, sizeof options);
    if (size > 2) {
        if (index > size - 2) index = size - 2;
        options.memory = data + 2;
        options.bytes = index;
        file_bytes = data + 2 + index;
        file_size = size - 2 - index;
        file_end = ".data-00000-of-00001";
        read_tensors(m, ft_file_open(m, "in.index", options));
        file_end = "?";
    }
    ft_destroy(m);
}

/* ---- Graphs: a description as model files have it. The file around it is made here, with a tensor
   for each parameter that is named, so that changed shapes get past it. ---- */

typedef struct writer { char *at; size_t count, most; } writer;

static void add(writer *w, const void *bytes, size_t count)
{
    if (count > w->most - w->count) return;
    memcpy(w->at + w->count, bytes, count);
    w->count += count;
}
static void add_text(writer *w, const char *text) { add(w, text, strlen(text)); }

/* {"op":"parameter","name":"NAME",...,"shape":[...]: one tensor, if `node` begins so. */
static const char *add_tensor(writer *w, const char *node, const char *end, size_t *offset)
{
    static const char ops[2][40] = {"\"op\":\"parameter\",\"name\":\"", "\"op\":\"buffer\",\"name\":\""};
    const char *name, *shape, *at;
    char text[80];
    size_t count = 1;
    int i;
    for (i = 0; i < 2; ++i)
        if ((size_t)(end - node) > strlen(ops[i]) && !memcmp(node, ops[i], strlen(ops[i]))) break;
    if (i == 2) return node + 1;
    name = node + strlen(ops[i]);
    for (at = name; at < end && *at != '"';) ++at;
    for (shape = at; shape < end && *shape != '[';) ++shape;
    for (node = shape; node < end && *node != ']';) ++node;
    if (node >= end) return node;
    for (i = 0; shape + i < node;) { /* numbers and commas */
        size_t size = 0;
        for (++i; shape + i < node && shape[i] >= '0' && shape[i] <= '9'; ++i)
            size = size > MOST_NUMBERS ? size : size * 10 + (size_t)(shape[i] - '0');
        count = count > MOST_NUMBERS ? count : count * size;
    }
    if (count > MOST_NUMBERS || *offset + 4 * count > 4 * MOST_NUMBERS) return node;
    add_text(w, ",\"");
    add(w, name, (size_t)(at - name));
    add_text(w, "\":{\"dtype\":\"F32\",\"shape\":");
    add(w, shape, (size_t)(node + 1 - shape));
    snprintf(text, sizeof text, ",\"data_offsets\":[%lu,%lu]}", (unsigned long)*offset,
             (unsigned long)(*offset + 4 * count));
    add_text(w, text);
    *offset += 4 * count;
    return node;
}

/* The description alone, as written by hand: its weights are drawn. */
static void load_description(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_graph_options options;
    options.memory = data;
    options.bytes = size;
    if (ft_load_graph(m, "in.json", options) == FT_OK && ft_graph_text(m)) use_network(m, data, size);
    ft_destroy(m);
}

static void run_graph(const uint8_t *data, size_t size)
{
    static char header[1 << 20];
    const char *text = (const char *)data, *at = text;
    writer w;
    uint8_t *file;
    size_t offset = 0, i;
    w.at = header;
    w.count = 0;
    w.most = sizeof header;
    add_text(&w, "{\"__metadata__\":{\"finetune\":\"");
    for (i = 0; i < size; ++i) {
        if (text[i] == '"' || text[i] == '\\') add(&w, "\\", 1);
        add(&w, text + i, 1);
    }
    add_text(&w, "\"}");
    while (at < text + size) at = add_tensor(&w, at, text + size, &offset);
    add_text(&w, "}");
    file = (uint8_t *)calloc(1, 8 + w.count + offset);
    if (!file) return;
    for (i = 0; i < 8; ++i) file[i] = (uint8_t)((uint64_t)w.count >> 8 * i);
    memcpy(file + 8, header, w.count);
    for (i = 0; i + 4 <= offset; i += 4) {
        float value = (float)(i % 44) * 0.01f - 0.2f;
        memcpy(file + 8 + w.count + i, &value, sizeof value);
    }
    load(file, 8 + w.count + offset);
    free(file);
    if (size > 0) load_description(data, size);
}

/* ---- Texts ---- */

static const char sample[] = "The caf\xc3\xa9's 7 na\xc3\xafve owners\n\tmov'd \xe4\xbd\xa0\xe5\xa5\xbd "
    "\xf0\x9f\x98\x80 \xff\xfe low lower newest";

static void use_tokenizer(ft_tokenizer *t, const char *text, size_t bytes)
{
    ft_tokenize_options options;
    ft_tokens tokens;
    int32_t ids[64];
    int count, i;
    memset(&options, 0, sizeof options);
    tokens = ft_tokenize(t, text, bytes, options);
    count = tokens.count < 64 ? tokens.count : 64;
    if (count > 0) memcpy(ids, tokens.ids, (size_t)count * sizeof *ids);
    for (i = 0; i < count; ++i) ft_tokenizer_piece(t, ids[i]);
    ft_detokenize(t, ids, count, NULL);
    ft_tokenizer_find(t, "low");
    ft_tokenizer_piece(t, ft_tokenizer_count(t) - 1);
}

/* A vocabulary; behind "#version" the merges that go with it. */
static void run_tokenizer(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_tokenizer_options options;
    ft_tokenizer *t;
    ft_save_options save;
    size_t at;
    memset(&options, 0, sizeof options);
    memset(&save, 0, sizeof save);
    options.memory = data;
    options.bytes = size;
    for (at = 0; at + 8 <= size && memcmp(data + at, "#version", 8) != 0;) ++at;
    if (at + 8 <= size) {
        options.bytes = at;
        options.merges_memory = data + at;
        options.merges_bytes = size - at;
    }
    t = ft_tokenizer_load(m, "vocab.json", options);
    if (t) {
        use_tokenizer(t, sample, sizeof sample - 1);
        ft_set_tokenizer(m, t);
        ft_save(m, "saved.safetensors", save);
    }
    ft_destroy(m);
}

/* The kinds of tokenisers on any text; the first byte says which. */
static void run_tokenize(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"the low lower lowest", "newer newest", "a caf\xc3\xa9"};
    static const char pieces[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlow\n##er\n##est\nnew\nthe\na\n"
        "##a\n##b\nb\nc\n##c\n.\n,\n1\n##2\n\xe4\xbd\xa0\n";
    static const char bpe[] = "{\"a\":0,\"b\":1,\"c\":2,\"l\":3,\"o\":4,\"w\":5,\"lo\":6,\"low\":7,"
        "\"e\":8,\"r\":9,\"er\":10,\"\xc4\xa0\":11,\"\xc4\xa0low\":12,\"n\":13,\"<|endoftext|>\":14}";
    static const char merges[] = "#version: 0.2\nl o\nlo w\ne r\n\xc4\xa0 low\n";
    static ft_model *m;
    static ft_tokenizer *t[4];
    if (!m) {
        ft_vocabulary_options none;
        ft_tokenizer_options o;
        memset(&none, 0, sizeof none);
        memset(&o, 0, sizeof o);
        m = new_model();
        t[0] = ft_tokenizer_build(m, FT_WORDS, texts, 3, none);
        t[1] = ft_tokenizer_build(m, FT_CHARACTERS, texts, 3, none);
        o.memory = pieces;
        o.bytes = sizeof pieces - 1;
        t[2] = ft_tokenizer_load(m, "vocab.txt", o);
        o.memory = bpe;
        o.bytes = sizeof bpe - 1;
        o.merges_memory = merges;
        o.merges_bytes = sizeof merges - 1;
        t[3] = ft_tokenizer_load(m, "vocab.json", o);
        if (ft_error(m)) {
            fprintf(stderr, "%s\n", ft_error_text(m));
            abort();
        }
    }
    if (size > 0) use_tokenizer(t[data[0] % 4], (const char *)data + 1, size - 1);
    ft_clear_error(m);
}

/* A table, or sentences with tags; the first letter says of which format (t, c, j or b). */
static void run_table(const uint8_t *data, size_t size)
{
    ft_model *m = new_model();
    ft_text_options options;
    ft_completion_options completions;
    ft_stream_options streams;
    ft_data *texts;
    int i;
    memset(&options, 0, sizeof options);
    memset(&streams, 0, sizeof streams);
    if (size > 0) {
        options.format = streams.format = data[0] == 'j' ? "jsonl" : data[0] == 'c' ? "csv" : "tsv";
        if (data[0] == 'b') options.format = "conll";
        options.memory = streams.memory = data + 1;
        options.bytes = streams.bytes = size - 1;
        texts = ft_texts(m, "in", options);
        for (i = 0; texts && i < ft_data_count(texts) && i < 100; ++i) {
            ft_data_name(texts, i);
            ft_data_class_name(texts, ft_data_label(texts, i));
        }
        ft_clear_error(m);
        streams.streams = 2;
        streams.steps = 4;
        streams.vocabulary_kind = size % 2 ? FT_WORDS : FT_CHARACTERS;
        if (size % 3) streams.text_column = "text";
        ft_text_streams(m, "in", streams);
        ft_clear_error(m);
        memset(&completions, 0, sizeof completions);
        completions.memory = data + 1;
        completions.bytes = size - 1;
        completions.stop = "<unk>";
        ft_completions(m, "in", completions);
    }
    ft_destroy(m);
}

/* ---- Pictures ---- */

static void run_picture(const uint8_t *data, size_t size)
{
    static ft_model *m;
    ft_prediction best[3];
    if (!m) { /* the smallest network that takes pictures */
        ft_input_options in;
        ft_linear_options none;
        ft_preprocessing to;
        memset(&in, 0, sizeof in);
        memset(&none, 0, sizeof none);
        memset(&to, 0, sizeof to);
        in.size[0] = 3;
        in.size[1] = in.size[2] = to.width = to.height = 8;
        to.channels = 3;
        to.resize = 9;
        to.std[0] = to.std[1] = to.std[2] = 1;
        m = new_model();
        ft_set_output(m, ft_linear(m, "fc", ft_flatten(m, NULL, ft_input(m, "input", in)), 3, none));
        ft_set_preprocessing(m, to);
        if (ft_error(m)) {
            fprintf(stderr, "%s\n", ft_error_text(m));
            abort();
        }
    }
    ft_predict_memory(m, data, size, best, 3);
    ft_clear_error(m);
}

/* ---- Checkpoints: the run that fuzz/make_corpus.c made one of goes on from these bytes ---- */

static void run_checkpoint(const uint8_t *data, size_t size)
{
    static const float values[8 * 4] = {0.5f, -1, 2, 0.25f, -0.5f};
    static const int labels[8] = {0, 1, 0, 1, 1, 0, 1, 0};
    ft_model *m = new_model();
    ft_input_options in;
    ft_linear_options none;
    ft_loss_options loss;
    ft_array_options arrays;
    ft_fit_options fit;
    ft_node x, y;
    memset(&in, 0, sizeof in);
    memset(&none, 0, sizeof none);
    memset(&loss, 0, sizeof loss);
    memset(&arrays, 0, sizeof arrays);
    memset(&fit, 0, sizeof fit);
    file_bytes = data;
    file_size = size;
    file_end = size > 0 ? "checkpoint" : "?";
    in.size[0] = 4;
    x = ft_linear(m, "fc", ft_input(m, "input", in), 2, none);
    ft_set_output(m, x);
    memset(&in, 0, sizeof in);
    in.type = FT_I32;
    y = ft_input(m, "labels", in);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, loss));
    fit.epochs = 2;
    fit.batch_size = 4;
    fit.checkpoint = "checkpoint";
    fit.checkpoint_steps = 1;
    ft_fit(m, ft_arrays(m, 8, values, labels, arrays), fit);
    ft_destroy(m);
    file_end = "?";
}

/* ---- Keras: the config of a network, in an HDF5 file that has nothing else ---- */

static const uint8_t *config_bytes;
static size_t config_size;

static void *hdf5_open(void *user, const void *bytes, size_t count)
{
    (void)user;
    (void)count;
    return (void *)(uintptr_t)bytes;
}
static bool hdf5_item(void *user, void *file, int index, ft_hdf5_item *item)
{
    (void)user;
    (void)file;
    memset(item, 0, sizeof *item);
    item->path = "";
    item->attribute = "model_config";
    item->type = FT_OTHER;
    item->bytes = config_size + 1;
    return index == 0;
}
static bool hdf5_read(void *user, void *file, int index, void *to)
{
    (void)user;
    (void)file;
    (void)index;
    if (config_size) memcpy(to, config_bytes, config_size);
    ((uint8_t *)to)[config_size] = 0;
    return true;
}
static void hdf5_close(void *user, void *file)
{
    (void)user;
    (void)file;
}

static void run_keras(const uint8_t *data, size_t size)
{
    static const uint8_t signature[16] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    ft_hdf5 functions = {NULL, hdf5_open, hdf5_item, hdf5_read, hdf5_close};
    ft_load_options options;
    ft_model *m;
    memset(&options, 0, sizeof options);
    config_bytes = data;
    config_size = size;
    options.weights.memory = signature;
    options.weights.bytes = sizeof signature;
    options.weights.allow_missing = true;
    m = model_with(&functions);
    if (ft_load(m, "in.h5", options) == FT_OK) use_network(m, data, size);
    ft_destroy(m);
}

const fuzz_target fuzz_targets[] = {
    {"safetensors", run_weights, 6}, {"pytorch", run_weights, 0}, {"graph", run_graph, 9},
    {"tokenizer", run_tokenizer, 5}, {"tokenize", run_tokenize, 1}, {"table", run_table, 4},
    {"picture", run_picture, 0}, {"checkpoint", run_checkpoint, 7},
    {"onnx", run_weights, 0}, {"keras", run_keras, 9}, {"numpy", run_numpy, 0}, {"bundle", run_bundle, 0}};
const int fuzz_target_count = (int)(sizeof fuzz_targets / sizeof fuzz_targets[0]);
