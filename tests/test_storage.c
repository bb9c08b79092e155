/* test_storage.c - weights in other types: bf16, f16, int8 with a scale for each row, in memory and
   in a mapped file. The oracle rounds weights here, in double, and a second model of the same
   network has them as float32: every number of a run must be the same. */
#include "public.h"
#include "host_files.h"

enum { SIDE = 8, STEPS = 5, WORDS = 11, CLASSES = 4, TYPES = 3, MOST_BATCH = 17 };
static const ft_type types[TYPES] = {FT_F16, FT_BF16, FT_I8};
static const char *const type_names[TYPES] = {"F16", "BF16", "I8"};

/* ---- The oracle ---- */

/* The multiple of 2^exponent, or of its 2^-fraction if that is larger, that is nearest; ties to
   even. */
static double nearest(double x, int fraction, int least)
{
    int exponent;
    double unit;
    frexp(x, &exponent);
    exponent -= 1; /* x is 1.f times 2^exponent */
    if (exponent < least) exponent = least;
    unit = ldexp(1, exponent - fraction);
    return rint(x / unit) * unit;
}

static void round_rows(float *values, size_t rows, size_t columns, ft_type type)
{
    size_t r, i;
    for (r = 0; r < rows; ++r) {
        float *row = values + r * columns, scale = 0;
        for (i = 0; i < columns; ++i)
            if (fabsf(row[i]) > scale) scale = fabsf(row[i]);
        scale /= 127;
        for (i = 0; i < columns; ++i)
            if (type == FT_F16) row[i] = (float)nearest((double)row[i], 10, -14);
            else if (type == FT_BF16) row[i] = (float)nearest((double)row[i], 7, -126);
            else if (scale > 0) row[i] = (float)(int)round((double)(row[i] / scale)) * scale;
    }
}

static bool is_matrix(const ft_model *m, ft_node node)
{
    return is_parameter(m, node) && ft_node_shape(m, node).rank >= 2;
}

/* Rounds the frozen matrices of a model, as float32. */
static void round_weights(ft_model *m, ft_type type)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        size_t count = numbers_of(m, node), rows = (size_t)ft_node_shape(m, node).size[0];
        float *values;
        if (!is_matrix(m, node) || !ft_node_frozen(m, node)) continue;
        values = weight_of(m, node);
        round_rows(values, rows, count / rows, type);
        ft_set(m, node, values, count);
        free(values);
    }
}

/* ---- Networks ---- */

static float numbers[MOST_BATCH * 3 * SIDE * SIDE];
static int words[MOST_BATCH * STEPS], labels[MOST_BATCH];

static void fill(void)
{
    size_t i;
    for (i = 0; i < sizeof numbers / sizeof *numbers; ++i) numbers[i] = (float)sin(0.7 * (double)i);
    for (i = 0; i < MOST_BATCH * STEPS; ++i) words[i] = (int)(i * 7 % WORDS);
    for (i = 0; i < MOST_BATCH; ++i) labels[i] = (int)(i % CLASSES);
}

/* Every form of a convolution: Winograd's, small pictures', few channels, groups, depthwise, a
   stride, a dilation; with and without a batch norm; a linear layer over pixels. */
static ft_node pictures(ft_model *m, ft_node x)
{
    ft_batch_norm_options norm = {.eps = 0};
    ft_activation_options none = {.slope = 0};
    ft_pool2d_options pool = {.kernel = {2}};
    ft_parameter_options map = {.size = {1, 16, SIDE, SIDE}};
    x = ft_conv2d(m, "first", x, 16, (ft_conv2d_options){.kernel = {3}, .padding = {1}});
    x = ft_activation(m, "relu", "relu1", ft_batch_norm(m, "bn1", x, norm), none);
    x = ft_add(m, "map_added", x, ft_parameter(m, "map", map)); /* read channels-last */
    x = ft_conv2d(m, "winograd", x, 32, (ft_conv2d_options){.kernel = {3}, .padding = {1}});
    x = ft_activation(m, "relu", "relu2", ft_batch_norm(m, "bn2", x, norm), none);
    x = ft_conv2d(m, "winograd2", x, 32, (ft_conv2d_options){.kernel = {3}, .padding = {1}});
    x = ft_conv2d(m, "deep", x, 32, (ft_conv2d_options){.kernel = {3}, .padding = {1}, .groups = 32});
    x = ft_conv2d(m, "one", x, 20, (ft_conv2d_options){.kernel = {1}, .no_bias = true});
    x = ft_batch_norm(m, "bn3", x, norm);
    x = ft_conv2d(m, "groups", x, 24, (ft_conv2d_options){.kernel = {5, 3}, .padding = {2},
                                                          .groups = 2, .stride = {2, 1}});
    x = ft_conv2d(m, "dilated", x, 17, (ft_conv2d_options){.kernel = {3}, .padding = {2},
                                                           .dilation = {2}});
    x = ft_linear(m, "pixels", x, 6, (ft_linear_options){.no_bias = false});
    x = ft_conv2d(m, "small", ft_max_pool2d(m, "pool", x, pool), 40,
                  (ft_conv2d_options){.kernel = {3}, .padding = {1}});
    return ft_linear(m, "wide", ft_flatten(m, "flat", x), 80, (ft_linear_options){.no_bias = false});
}

/* A frozen linear layer, and beside it two trained ones of a lower rank (Hu et al. 2021). */
static ft_node lora(ft_model *m, ft_node x)
{
    ft_linear_options no_bias = {.no_bias = true};
    ft_node low = ft_linear(m, "lora_a", x, 2, no_bias);
    return ft_add(m, "lora", ft_linear(m, "base", x, 9, no_bias),
                  ft_linear(m, "lora_b", low, 9, no_bias));
}

/* Every recurrent layer, an embedding, a convolution in one dimension, and operators that do not
   know other types: a product of two parameters, a sum, a dropout. */
static ft_node sequences(ft_model *m, ft_node ids)
{
    ft_recurrent_options both = {.bidirectional = true, .layers = 2}, plain = {.relu = true};
    ft_parameter_options shape = {.size = {1, 6, STEPS}}, other = {.size = {1, 6, 8}};
    ft_parameter_options table = {.size = {STEPS, 9}}, shift = {.size = {STEPS, 12}};
    const int axes[3] = {0, 2, 1};
    ft_node x = ft_embedding(m, "words", ids, WORDS, 12, (ft_embedding_options){.padded = false});
    ft_node weight = ft_parameter(m, "low", (ft_parameter_options){.size = {9, 18}}), product;
    x = ft_add(m, "before_added", x, ft_parameter(m, "before.weight", shift)); /* trained */
    x = ft_lstm(m, "lstm", x, 7, both);
    x = ft_conv1d(m, "steps", ft_permute(m, "turn", x, 3, axes), 10,
                  (ft_conv1d_options){.kernel = 3, .padding = {1}});
    x = ft_gru(m, "gru", ft_permute(m, "turn_back", x, 3, axes), 9, both);
    weight = ft_dropout(m, "drop", weight, (ft_dropout_options){.probability = 0.25f});
    x = ft_linear(m, "dropped", x, 9, (ft_linear_options){.weight = weight});
    x = ft_add(m, "table_added", x, ft_parameter(m, "table", table));
    x = ft_mul(m, "gained", x, ft_parameter(m, "gain", table));
    x = lora(m, x);
    x = ft_rnn(m, "rnn", x, 8, plain);
    product = ft_permute(m, "a_turned", ft_parameter(m, "a", shape), 3, axes);
    product = ft_matmul(m, "product", product, ft_parameter(m, "b", other),
                        (ft_matmul_options){.transpose_a = false});
    x = ft_add(m, "product_added", x, product);
    return ft_step_pool(m, "last", x, (ft_node){0}, (ft_step_pool_options){.kind = FT_POOL_ALL});
}

/* The frozen part between two trained layers: gradients go through it to the first one. */
static ft_model *build_in(ft_desc desc, const char *kind)
{
    ft_model *m = ft_create(desc);
    ft_input_options picture = {.size = {3, SIDE, SIDE}}, text = {.type = FT_I32, .size = {STEPS}};
    ft_input_options label = {.type = FT_I32};
    bool of_text = strcmp(kind, "sequences") == 0;
    ft_node x = ft_input(m, "input", of_text ? text : picture);
    if (!of_text) /* trained */
        x = ft_conv2d(m, "before", x, 3, (ft_conv2d_options){.kernel = {1}});
    x = of_text ? sequences(m, x) : pictures(m, x);
    x = ft_linear(m, "fc", x, CLASSES, (ft_linear_options){.no_bias = false});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label),
                                    (ft_loss_options){.label_smoothing = 0}));
    ft_freeze(m, "*");
    ft_unfreeze(m, "fc*,before*,lora_*");
    return m;
}

static ft_model *build(const char *kind, const char *simd, const char *precision)
{
    ft_desc desc = {.seed = 5, .threads = 2, .simd = simd, .precision = precision};
    ft_model *m = build_in(desc, kind);
    CHECK(ft_error(m) == FT_OK, "%s: %s", kind, ft_error_text(m));
    return m;
}

/* Output and loss of a batch, and the gradients of both trained layers: a hash of their bits. */
static uint64_t run(ft_model *m, int batch, bool training)
{
    static const char *const trained[] = {"before.weight", "lora_a.weight", "lora_b.weight",
                                          "fc.weight", "fc.bias"};
    ft_node input = ft_find(m, "input");
    bool of_text = ft_node_shape(m, input).rank == 2;
    float output[MOST_BATCH * CLASSES], loss, gradient[5000];
    uint64_t hash;
    size_t i;
    ft_feed(m, input, of_text ? (const void *)words : (const void *)numbers, batch);
    ft_feed(m, ft_find(m, "labels"), labels, batch);
    loss = ft_forward(m, training);
    ft_get(m, ft_output(m), output, (size_t)batch * CLASSES);
    hash = hash_bytes(1, &loss, sizeof loss);
    hash = hash_bytes(hash, output, (size_t)batch * CLASSES * sizeof *output);
    if (training) ft_backward(m);
    for (i = 0; training && i < sizeof trained / sizeof *trained; ++i) {
        ft_node node = ft_find(m, trained[i]);
        if (!node.id || ft_node_frozen(m, node)) continue;
        ft_get_gradient(m, node, gradient, numbers_of(m, node));
        hash = hash_bytes(hash, gradient, numbers_of(m, node) * sizeof *gradient);
    }
    CHECK(ft_error(m) == FT_OK && loss == loss, "a batch of %d: %s", batch, ft_error_text(m));
    return hash;
}

/* Stores every frozen parameter. */
static void store(ft_model *m, ft_type type)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (is_parameter(m, node) && ft_node_frozen(m, node))
            CHECK(ft_set_type(m, ft_node_name(m, node), type) == 1, "%s", ft_error_text(m));
}

/* Does every parameter have the type that it should: matrices that are frozen this one? */
static void check_types(const ft_model *m, ft_type type)
{
    ft_node node;
    int wrong = 0;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (is_weight(m, node))
            wrong += ft_node_type(m, node)
                != (is_matrix(m, node) && ft_node_frozen(m, node) ? type : FT_F32);
    CHECK(wrong == 0, "%d parameters have another type", wrong);
}

/* With `prefix`, only layers after the network's are trained: the rest runs in inference form. */
static void test_network(const char *kind, const char *simd, const char *precision, bool prefix)
{
    static const int batches[] = {1, 3, MOST_BATCH};
    int t, b, training;
    for (t = 0; t < TYPES; ++t) {
        ft_model *m = build(kind, simd, precision), *oracle = build(kind, simd, precision);
        if (prefix) ft_freeze(m, "before*,lora*");
        if (prefix) ft_freeze(oracle, "before*,lora*");
        store(m, types[t]);
        check_types(m, types[t]);
        round_weights(oracle, types[t]);
        for (b = 0; b < 3; ++b)
            for (training = 0; training < 2; ++training)
                CHECK(run(m, batches[b], training) == run(oracle, batches[b], training),
                      "%s in %s, simd %s, precision %s, %d samples, training %d, prefix %d: other"
                      " bits", kind, type_names[t], simd ? simd : "best",
                      precision ? precision : "float32", batches[b], training, prefix);
        CHECK(fingerprint(m) == fingerprint(oracle), "%s in %s: other weights", kind,
              type_names[t]);
        ft_destroy(oracle);
        ft_destroy(m);
    }
}

static void test_networks(void)
{
    static const char *const levels[] = {"none", "sse2", "avx2", "avx512", "neon"};
    size_t i;
    for (i = 0; i < sizeof levels / sizeof *levels; ++i) {
        ft_model *m = ft_create((ft_desc){.simd = levels[i]});
        bool has = ft_error(m) == FT_OK;
        ft_destroy(m);
        if (!has) {
            skip_level(levels[i]);
            continue;
        }
        test_network("pictures", levels[i], NULL, false);
        test_network("sequences", levels[i], NULL, false);
        test_network("pictures", levels[i], NULL, true);
    }
    test_network("sequences", NULL, NULL, true);
    test_network("pictures", NULL, "bf16_emulated", false);
}

/* A batch norm after a convolution whose weight or bias is computed: by a dropout, which is off,
   so that the result is that of the parameter itself. It cannot be folded. */
static void test_computed_weight(void)
{
    float output[3][4 * 36];
    int which, i, wrong = 0;
    for (which = 0; which < 3; ++which) {
        ft_model *m = ft_create((ft_desc){.seed = 3});
        ft_parameter_options weight = {.size = {4, 3, 3, 3}}, bias = {.size = {4}};
        ft_conv2d_options conv = {.kernel = {3}};
        ft_dropout_options off = {.probability = 0.5f};
        ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, SIDE, SIDE}});
        conv.weight = ft_parameter(m, "c.weight", weight);
        conv.bias = ft_parameter(m, "c.bias", bias);
        if (which == 1) conv.weight = ft_dropout(m, "off", conv.weight, off);
        if (which == 2) conv.bias = ft_dropout(m, "off", conv.bias, off);
        x = ft_conv2d(m, "c", x, 4, conv);
        ft_set_output(m, ft_batch_norm(m, "bn", x, (ft_batch_norm_options){.eps = 0.5f}));
        ft_freeze(m, "*");
        if (which) ft_set_type(m, "*", FT_BF16);
        else round_weights(m, FT_BF16);
        ft_run(m, numbers, 1, output[which], 4 * 36);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    for (i = 0; i < 4 * 36; ++i)
        for (which = 1; which < 3; ++which)
            wrong += !CLOSE(output[which][i], output[0][i], 1e-5);
    CHECK(wrong == 0, "%d numbers differ", wrong);
}

/* ---- Numbers ---- */

/* A file of one tensor. */
static size_t one_tensor(unsigned char *to, const char *type, int rows, int columns,
                         const void *data, size_t bytes)
{
    char header[200];
    size_t length;
    snprintf(header, sizeof header, "{\"w.weight\":{\"dtype\":\"%s\",\"shape\":[%d,%d],"
             "\"data_offsets\":[0,%zu]}}", type, rows, columns, bytes);
    while (strlen(header) % 8) strcat(header, " ");
    length = strlen(header);
    memset(to, 0, 8);
    to[0] = (unsigned char)(length & 255);
    to[1] = (unsigned char)(length >> 8);
    memcpy(to + 8, header, length);
    memcpy(to + 8 + length, data, bytes);
    return 8 + length + bytes;
}

/* A linear layer [256, 256] whose weight is loaded from a file in memory, in its type. */
static ft_model *one_layer(const void *memory, size_t bytes, bool keep_types)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_input_options input = {.size = {256}};
    ft_weights_options weights = {.memory = memory, .bytes = bytes, .keep_types = keep_types};
    ft_set_output(m, ft_linear(m, "w", ft_input(m, "input", input), 256,
                               (ft_linear_options){.no_bias = true}));
    ft_load_weights(m, NULL, weights);
    return m;
}

/* All 65,536 numbers of f16 and bf16, from their definition. */
static void test_all_halves(void)
{
    static unsigned char file[8 + 200 + 2 * 65536];
    static float got[65536];
    static uint16_t bits[65536];
    int t, keep, i;
    for (i = 0; i < 65536; ++i) bits[i] = (uint16_t)i;
    for (t = 0; t < 2; ++t)
        for (keep = 0; keep < 2; ++keep) {
            size_t bytes = one_tensor(file, type_names[t], 256, 256, bits, sizeof bits);
            ft_model *m = one_layer(file, bytes, keep);
            int shift = t ? 7 : 10, wrong = 0;
            ft_get(m, ft_find(m, "w.weight"), got, 65536);
            CHECK(ft_error(m) == FT_OK
                  && ft_node_type(m, ft_find(m, "w.weight")) == (keep ? types[t] : FT_F32),
                  "%s", ft_error_text(m));
            for (i = 0; i < 65536; ++i) {
                int exponent = (i & 0x7fff) >> shift, most = t ? 255 : 31;
                double fraction = (i & ((1 << shift) - 1)) / (double)(1 << shift), want;
                if (exponent == most) {
                    wrong += fraction > 0 ? got[i] == got[i]
                        : !(got[i] == (i & 0x8000 ? -INFINITY : INFINITY));
                    continue;
                }
                want = exponent ? ldexp(1 + fraction, exponent - most / 2)
                                : ldexp(fraction, 1 - most / 2);
                wrong += !((double)got[i] == (i & 0x8000 ? -want : want))
                    || !signbit(got[i]) != !(i & 0x8000);
            }
            CHECK(wrong == 0, "%s, kept %d: %d numbers are wrong", type_names[t], keep, wrong);
            ft_destroy(m);
        }
}

static void test_refused(void)
{
    static float values[65536];
    static const ft_type others[] = {FT_I32, FT_F64, FT_OTHER, FT_TYPE_COUNT};
    size_t i;
    for (i = 0; i < 9; ++i) {
        ft_model *m = build("pictures", NULL, NULL);
        ft_node node = ft_find(m, "groups.weight");
        size_t count = numbers_of(m, node);
        const char *says = i < 4 ? "it must be FT_F32" : i == 4 ? "freeze it first"
            : i == 5 ? "beyond 65504" : "NaN or infinite";
        for (size_t k = 0; k < count; ++k) values[k] = 1;
        values[count - 1] = i == 5 ? -65520.0f : i == 6 ? NAN : -INFINITY;
        if (i >= 5) ft_set(m, node, values, count);
        if (i < 4) ft_set_type(m, "*", others[i]);
        else if (i == 4) ft_set_type(m, "fc.weight", FT_I8);
        else if (i < 8) ft_set_type(m, "groups.weight", i == 5 ? FT_F16 : FT_I8);
        else { /* infinite is a number of F16: it is kept, and a run refuses it */
            CHECK(ft_set_type(m, "groups.weight", FT_F16) == 1 && !ft_error(m), "infinite");
            ft_feed(m, ft_find(m, "input"), numbers, 1);
            ft_forward(m, false);
        }
        CHECK(ft_error(m) == (i < 5 ? FT_INVALID : FT_NOT_FINITE)
              && strstr(ft_error_text(m), says), "case %zu: %s", i, ft_error_text(m));
        ft_clear_error(m);
        CHECK(ft_node_type(m, node) == (i == 8 ? FT_F16 : FT_F32), "case %zu", i);
        if (i == 8) { /* setting numbers keeps the type */
            values[count - 1] = 0.1f;
            ft_set(m, node, values, count);
            ft_get(m, node, values, count);
            CHECK(ft_node_type(m, node) == FT_F16
                  && (double)values[count - 1] == nearest((double)0.1f, 10, -14), "ft_set");
            ft_initialise(m, "groups*", FT_INIT_ONES);
            ft_get(m, node, values, count);
            CHECK(ft_node_type(m, node) == FT_F16 && values[count - 1] == 1, "ft_initialise");
        }
        ft_destroy(m);
    }
}

/* ---- Files ---- */

static const char path[] = "build/storage.safetensors", second[] = "build/storage2.safetensors";
static const char third[] = "build/storage3.safetensors";

static unsigned char *file_bytes(const char *name, size_t *bytes)
{
    FILE *file = fopen(name, "rb");
    unsigned char *content = (unsigned char *)malloc(1 << 22);
    if (!file || !content) exit(1);
    *bytes = fread(content, 1, 1 << 22, file);
    fclose(file);
    return content;
}

static void write_bytes(const char *name, const void *content, size_t bytes)
{
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(content, 1, bytes, file) != bytes) exit(1);
    fclose(file);
}

static bool same_bytes(const char *name, const void *want, size_t bytes)
{
    size_t count;
    unsigned char *content = file_bytes(name, &count);
    bool same = count == bytes && memcmp(content, want, bytes) == 0;
    free(content);
    return same;
}

static ft_model *loaded(const char *name, const void *memory, size_t bytes, bool keep, bool map)
{
    ft_model *m = ft_create((ft_desc){.seed = 5, .threads = 2});
    ft_load_options o = {.weights = {.memory = memory, .bytes = bytes, .map = map,
                                     .keep_types = keep}};
    ft_load(m, name, o);
    return m;
}

static uint64_t prediction(ft_model *m)
{
    float output[3 * CLASSES];
    ft_run(m, numbers, 3, output, 3 * CLASSES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return hash_bytes(1, output, sizeof output);
}

/* int8: the product of a tensor and its scales, for each row. */
static void check_scales(ft_model *m)
{
    ft_file *file = ft_file_open(m, path, (ft_weights_options){.map = true});
    int index = ft_file_find(file, "winograd.weight");
    int scales = ft_file_find(file, "winograd.weight_scale");
    ft_tensor_info t = ft_file_tensor(file, index), s = ft_file_tensor(file, scales);
    static int8_t q[32 * 16 * 9];
    static float want[32 * 16 * 9], scale[32];
    int i, wrong = 0;
    CHECK(t.type == FT_I8 && s.type == FT_F32 && s.shape.rank == 4 && s.shape.size[0] == 32
          && s.shape.size[1] == 1 && s.shape.size[3] == 1, "the scales' shape");
    ft_file_read(file, index, q, sizeof q);
    ft_file_read_f32(file, scales, scale, 32);
    ft_get(m, ft_find(m, "winograd.weight"), want, 32 * 16 * 9);
    for (i = 0; i < 32 * 16 * 9; ++i) wrong += (float)q[i] * scale[i / 144] != want[i];
    CHECK(wrong == 0 && ft_error(m) == FT_OK, "%d numbers differ: %s", wrong, ft_error_text(m));
    ft_file_close(file);
}

/* Saved and loaded: in every way the same numbers, and types as asked for. */
static void test_round_trips(void)
{
    int t, way;
    for (t = 0; t < TYPES; ++t) {
        ft_model *m = build("pictures", NULL, NULL), *other;
        uint64_t weights, output;
        unsigned char *content, *moved;
        size_t bytes, header;
        store(m, types[t]);
        weights = fingerprint(m);
        output = prediction(m);
        ft_save(m, path, (ft_save_options){.type = FT_F32});
        if (types[t] == FT_I8) check_scales(m);
        content = file_bytes(path, &bytes);
        moved = (unsigned char *)malloc(bytes + 1); /* no tensor is aligned there */
        if (!moved) exit(1);
        header = 8 + content[0] + 256 * (size_t)content[1] + 65536 * (size_t)content[2];
        memcpy(moved, content, header);
        moved[header] = ' ';
        memcpy(moved + header + 1, content + header, bytes - header);
        if (++moved[0] == 0) moved[1] += 1;
        write_bytes(second, moved, bytes + 1);
        for (way = 0; way < 8; ++way) {
            static const char *const ways[] = {"float32", "kept", "mapped", "in memory, kept",
                                               "in memory, in place", "misaligned, kept",
                                               "misaligned, mapped", "mapped, but float32"};
            bool in_memory = way == 3 || way == 4, keep = way > 0 && way < 7;
            other = loaded(in_memory ? NULL : way == 5 || way == 6 ? second : path,
                           in_memory ? content : NULL, in_memory ? bytes : 0, keep,
                           way == 2 || way == 4 || way >= 6);
            CHECK(ft_error(other) == FT_OK, "%s: %s", ways[way], ft_error_text(other));
            check_types(other, keep ? types[t] : FT_F32);
            CHECK(fingerprint(other) == weights, "%s in %s: other weights", type_names[t],
                  ways[way]);
            CHECK(prediction(other) == output, "%s in %s: other output", type_names[t],
                  ways[way]);
            if (keep) {
                CHECK(ft_frozen_digest(other).frozen == ft_frozen_digest(m).frozen,
                      "%s: other digest", ways[way]);
                ft_save(other, third, (ft_save_options){.type = FT_F32});
            }
            ft_destroy(other);
            CHECK(!keep || same_bytes(third, content, bytes), "%s in %s: saved as another file",
                  type_names[t], ways[way]);
        }
        ft_save(m, second, (ft_save_options){.widen = true});
        other = loaded(second, NULL, 0, true, false);
        check_types(other, FT_F32);
        CHECK(fingerprint(other) == weights, "%s widened: other weights", type_names[t]);
        ft_destroy(other);
        ft_save(m, second, (ft_save_options){.type = FT_BF16});
        other = loaded(second, NULL, 0, true, true);
        CHECK(ft_node_type(other, ft_find(other, "winograd.weight")) == FT_BF16
              && ft_node_type(other, ft_find(other, "fc.weight")) == FT_BF16
              && ft_node_type(other, ft_find(other, "fc.bias")) == FT_F32, "all in bf16");
        ft_destroy(other);
        ft_save(m, second, (ft_save_options){.type = FT_BF16, .widen = true});
        CHECK(ft_error(m) == FT_INVALID, "widen without effect: %s", ft_error_text(m));
        ft_destroy(m);
        free(moved);
        free(content);
    }
}

/* ---- Files of one's own: what is mapped is released once, when nobody reads it any more ---- */

static int mapped_now, mapped_ever;

static void *open_file(void *user, const char *name, bool write)
{
    (void)user;
    return fopen(name, write ? "wbx" : "rb");
}

static const void *map_file(void *user, void *file, size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory || host_read(user, file, 0, memory, bytes) != bytes) exit(1);
    mapped_now += 1;
    mapped_ever += 1;
    return memory;
}

static void unmap_file(void *user, const void *memory, size_t bytes)
{
    (void)user;
    memset((void *)(uintptr_t)memory, 0xff, bytes); /* so that who reads it later is seen */
    free((void *)(uintptr_t)memory);
    mapped_now -= 1;
}

static ft_files own_files(void)
{
    ft_files files = host_files(open_file);
    files.map = map_file;
    files.unmap = unmap_file;
    return files;
}

static void train(ft_model *m, int steps)
{
    for (; steps > 0; --steps) {
        run(m, 3, true);
        ft_update(m, 1e-2f);
    }
}

/* What is unfrozen becomes float32 when it is trained, and the file is released with the last. */
static void test_unfreeze(void)
{
    int t, map;
    for (t = 0; t < TYPES; ++t)
        for (map = 0; map < 2; ++map) {
            ft_model *m = build("pictures", NULL, NULL), *oracle = build("pictures", NULL, NULL);
            ft_desc desc = {.seed = 5, .threads = 2, .files = own_files()};
            ft_load_options in_place = {.weights = {.map = true, .keep_types = true}};
            ft_plan_bytes before, after;
            store(m, types[t]);
            round_weights(oracle, types[t]);
            mapped_ever = 0;
            if (map) {
                ft_save(m, path, (ft_save_options){.type = FT_F32});
                ft_destroy(m);
                m = ft_create(desc);
                ft_load(m, path, in_place);
                CHECK(mapped_now == 1 && mapped_ever == 1, "%d are mapped", mapped_now);
            }
            train(m, 2); /* the layers at both ends */
            train(oracle, 2);
            check_types(m, types[t]);
            CHECK(fingerprint(m) == fingerprint(oracle), "%s: trained to other weights",
                  type_names[t]);
            ft_unfreeze(m, "one*,wino*,bn*");
            ft_unfreeze(oracle, "one*,wino*,bn*");
            before = ft_plan(m, 3, true);
            train(m, 2);
            train(oracle, 2);
            after = ft_plan(m, 3, true);
            check_types(m, types[t]);
            CHECK(before.parameters == after.parameters && before.mapped == after.mapped,
                  "planned %zu and %zu mapped; became %zu and %zu", before.parameters,
                  before.mapped, after.parameters, after.mapped);
            CHECK(mapped_now == map, "%d are mapped", mapped_now);
            ft_unfreeze(m, "*");
            ft_unfreeze(oracle, "*");
            train(m, 2);
            train(oracle, 2);
            check_types(m, FT_F32);
            CHECK(mapped_now == 0, "%d are still mapped", mapped_now);
            CHECK(fingerprint(m) == fingerprint(oracle), "%s: other weights at the end",
                  type_names[t]);
            ft_destroy(oracle);
            ft_destroy(m);
        }
}

/* Float32 in a mapped file: used in place, copied when it is trained. */
static void test_mapped_float32(void)
{
    ft_model *m = build("pictures", NULL, NULL), *other;
    ft_desc desc = {.seed = 5, .threads = 2, .files = own_files()};
    ft_load_options in_place = {.weights = {.map = true, .keep_types = true}};
    size_t frozen = 0;
    ft_node node;
    uint64_t output = prediction(m);
    ft_save(m, path, (ft_save_options){.type = FT_F32});
    other = ft_create(desc);
    ft_load(other, path, in_place);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (is_matrix(m, node) && ft_node_frozen(m, node)) frozen += 4 * numbers_of(m, node);
    CHECK(ft_plan(other, 3, true).mapped == frozen, "%zu of %zu bytes are mapped",
          ft_plan(other, 3, true).mapped, frozen);
    CHECK(prediction(other) == output, "mapped float32: other output");
    train(m, 2);
    train(other, 2);
    ft_unfreeze(m, "*");
    ft_unfreeze(other, "*");
    train(m, 2);
    train(other, 2);
    CHECK(fingerprint(m) == fingerprint(other) && mapped_now == 0, "mapped float32, trained");
    ft_destroy(other);
    ft_destroy(m);
}

/* ---- Memory ---- */

/* ft_plan counts what weights take, and nothing is kept beside those in other types. A run within
   a budget recomputes values, from such weights too. */
static void test_memory(void)
{
    static const size_t each[TYPES] = {2, 2, 1};
    int t;
    for (t = 0; t < TYPES; ++t) {
        ft_model *m = build("sequences", NULL, NULL), *small;
        ft_plan_bytes plain = ft_plan(m, MOST_BATCH, true), stored, cut;
        size_t want = plain.parameters;
        ft_desc desc = {.seed = 5, .threads = 2};
        uint64_t bits;
        ft_node node;
        int percent, refused = 0;
        store(m, types[t]);
        for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
            size_t rows = (size_t)ft_node_shape(m, node).size[0];
            if (!is_matrix(m, node) || !ft_node_frozen(m, node)) continue;
            want -= (4 - each[t]) * numbers_of(m, node) - (types[t] == FT_I8 ? 4 * rows : 0);
        }
        stored = ft_plan(m, MOST_BATCH, true);
        CHECK(stored.parameters == want && stored.mapped == 0, "%s: %zu bytes, not %zu",
              type_names[t], stored.parameters, want);
        bits = run(m, MOST_BATCH, true);
        for (percent = 90; percent > 50; percent -= 10) {
            desc.memory_budget = stored.total / 100 * (size_t)percent;
            small = build_in(desc, "sequences");
            store(small, types[t]);
            cut = ft_plan(small, MOST_BATCH, true);
            if (ft_error(small) == FT_MEMORY) refused += 1;
            else CHECK(cut.total <= desc.memory_budget && run(small, MOST_BATCH, true) == bits,
                       "%s in %d %%: other bits: %s", type_names[t], percent,
                       ft_error_text(small));
            ft_destroy(small);
        }
        CHECK(refused < 4, "%s: every budget was refused", type_names[t]);
        ft_destroy(m);
        m = build("pictures", NULL, NULL);
        ft_freeze(m, "*");
        ft_unfreeze(m, "fc*");
        plain = ft_plan(m, 3, true);
        store(m, types[t]);
        stored = ft_plan(m, 3, true);
        CHECK(stored.workspace < plain.workspace / 2, "%s: %zu bytes of workspace, with prepared"
              " float32 %zu", type_names[t], stored.workspace, plain.workspace);
        ft_unfreeze(m, "*"); /* the plan counts what becomes float32 */
        desc.memory_budget = ft_plan(m, 3, true).total;
        ft_destroy(m);
        small = build_in(desc, "pictures");
        ft_freeze(small, "*");
        store(small, types[t]);
        ft_unfreeze(small, "*");
        train(small, 2);
        CHECK(ft_error(small) == FT_OK, "%s: within its plan: %s", type_names[t],
              ft_error_text(small));
        ft_destroy(small);
    }
}

/* Everything, while the n-th allocation fails. */
static ft_status scenario(memory_count *taken, int t)
{
    ft_desc desc = {.seed = 5, .threads = 1, .allocator = counting(taken), .files = own_files()};
    ft_load_options in_place = {.weights = {.map = true, .keep_types = true}};
    ft_model *m = ft_create(desc);
    float output[3 * CLASSES];
    ft_status status;
    ft_load(m, path, in_place);
    ft_set_type(m, "small*,one*,pixels*", types[(t + 1) % TYPES]);
    ft_run(m, numbers, 3, output, 3 * CLASSES);
    ft_unfreeze(m, "wino*,pixels*");
    ft_feed(m, ft_find(m, "input"), numbers, 2);
    ft_feed(m, ft_find(m, "labels"), labels, 2);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 1e-3f);
    ft_save(m, third, (ft_save_options){.type = FT_F32});
    status = ft_error(m);
    ft_clear_error(m); /* what is there can be used, or is missing with an error */
    if (status && ft_output(m).id) ft_run(m, numbers, 3, output, 3 * CLASSES);
    ft_destroy(m);
    return status;
}

static void test_no_memory(void)
{
    int t;
    for (t = 0; t < TYPES; ++t) {
        ft_model *m = build("pictures", NULL, NULL);
        memory_count taken = {0};
        long at, step, wrong = 0, calls;
        store(m, types[t]);
        ft_save(m, path, (ft_save_options){.type = FT_F32});
        ft_destroy(m);
        CHECK(scenario(&taken, t) == FT_OK && taken.blocks == 0, "without a failure");
        calls = taken.calls;
        for (at = 1, step = t ? 3 : 1; at <= calls; at += step) {
            memset(&taken, 0, sizeof taken);
            taken.fail_at = at;
            wrong += scenario(&taken, t) != FT_MEMORY || taken.blocks != 0 || mapped_now != 0;
        }
        CHECK(wrong == 0 && calls > 200, "%s: %ld of %ld failing allocations were not an error, or"
              " memory was lost", type_names[t], wrong, calls);
    }
}

/* A file that ends early is refused before anything in it is used. */
static void test_truncated(void)
{
    ft_model *m = build("pictures", NULL, NULL);
    unsigned char *content;
    size_t bytes, n;
    int wrong = 0;
    store(m, FT_I8);
    ft_save(m, path, (ft_save_options){.type = FT_F32});
    ft_destroy(m);
    content = file_bytes(path, &bytes);
    for (n = 0; n < bytes; n += n < 32 ? 1 : bytes / 37) {
        write_bytes(second, content, n);
        m = loaded(second, NULL, 0, true, true);
        wrong += ft_error(m) != FT_FORMAT || ft_node_count(m) != 0;
        ft_destroy(m);
        m = loaded(NULL, content, n, true, true);
        wrong += ft_error(m) != FT_FORMAT || ft_node_count(m) != 0;
        ft_destroy(m);
    }
    CHECK(wrong == 0, "%d truncated files were not refused", wrong);
    for (n = 0; n < 200; ++n) { /* one bit is wrong: refused, or other numbers */
        size_t at = n < 100 ? n * 40 : n * 7919 % bytes;
        content[at] = (unsigned char)(content[at] ^ 1 << n % 8);
        m = loaded(NULL, content, bytes, true, true);
        if (ft_error(m) == FT_OK && ft_output(m).id && numbers_of(m, ft_output(m)) == CLASSES) {
            float output[3 * CLASSES];
            ft_run(m, numbers, 3, output, 3 * CLASSES);
        }
        ft_destroy(m);
        content[at] = (unsigned char)(content[at] ^ 1 << n % 8);
    }
    free(content);
}

/* The digest covers types and scales, not only the stored numbers. */
static void test_digest(void)
{
    static unsigned char file[8 + 200 + 2 * 65536];
    static uint16_t bits[65536];
    uint64_t digests[2];
    float *values;
    ft_model *m;
    size_t i;
    int t;
    for (i = 0; i < 65536; ++i) bits[i] = (uint16_t)(i % 1024);
    for (t = 0; t < 2; ++t) {
        size_t bytes = one_tensor(file, type_names[t], 256, 256, bits, sizeof bits);
        m = one_layer(file, bytes, true);
        ft_freeze(m, "*");
        digests[t] = ft_frozen_digest(m).frozen;
        ft_destroy(m);
    }
    CHECK(digests[0] != digests[1], "F16 and BF16 of the same bytes have one digest");
    m = build("pictures", NULL, NULL);
    ft_set_type(m, "one.weight", FT_I8);
    digests[0] = ft_frozen_digest(m).frozen;
    values = weight_of(m, ft_find(m, "one.weight"));
    for (i = 0; i < 32; ++i) values[i] *= 2; /* the first row: another scale, the same int8 */
    ft_set(m, ft_find(m, "one.weight"), values, 20 * 32);
    CHECK(ft_frozen_digest(m).frozen != digests[0], "two scales have one digest");
    for (i = 0; i < 32; ++i) values[i] /= 2;
    ft_set(m, ft_find(m, "one.weight"), values, 20 * 32);
    CHECK(ft_frozen_digest(m).frozen == digests[0], "the same numbers have two digests");
    free(values);
    ft_destroy(m);
}

/* ---- An OpenCL device, where weights are float32 ---- */

static void look_for_devices(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_device_info device;
    ft_devices(m, &device, 1);
    ft_destroy(m);
}

static void test_device(void)
{
    ft_desc desc = {.seed = 5, .threads = 2};
    ft_load_options in_place = {.weights = {.map = true, .keep_types = true}};
    ft_device_info device;
    ft_model *m = build("pictures", NULL, NULL);
    bool has = check_survives(look_for_devices) && ft_devices(m, &device, 1) > 0;
    uint64_t weights;
    store(m, FT_BF16);
    weights = fingerprint(m);
    ft_save(m, path, (ft_save_options){.type = FT_F32});
    ft_destroy(m);
    if (!has) {
        SKIP("no OpenCL device here");
        return;
    }
    desc.device = device.device;
    m = ft_create(desc);
    ft_load(m, path, in_place);
    check_types(m, FT_F32);
    CHECK(ft_error(m) == FT_OK && fingerprint(m) == weights, "loaded on a device: %s",
          ft_error_text(m));
    ft_set_type(m, "*", FT_BF16);
    CHECK(ft_error(m) == FT_UNSUPPORTED, "stored on a device: %s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Models on the same weights ---- */

static void test_share(void)
{
    ft_model *m = build("pictures", NULL, NULL), *shares[2];
    uint64_t output;
    int i;
    store(m, FT_BF16);
    ft_set_type(m, "winograd*,one*", FT_I8);
    output = prediction(m);
    for (i = 0; i < 2; ++i) shares[i] = ft_share(m, (ft_desc){.threads = 1});
    CHECK(ft_node_type(shares[0], ft_find(shares[0], "one.weight")) == FT_I8
          && ft_node_type(shares[1], ft_find(shares[1], "groups.weight")) == FT_BF16,
          "a share's types");
    for (i = 0; i < 2; ++i) CHECK(prediction(shares[i]) == output, "a share: other output");
    ft_set_type(m, "one*", FT_F32);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "shared"), "%s",
          ft_error_text(m));
    ft_set_type(shares[1], "one*", FT_F16);
    CHECK(ft_error(shares[1]) == FT_INVALID, "%s", ft_error_text(shares[1]));
    ft_clear_error(m);
    CHECK(prediction(m) == output, "the first model: other output");
    ft_destroy(shares[1]);
    ft_destroy(m); /* before its share */
    CHECK(prediction(shares[0]) == output, "the last share: other output");
    ft_destroy(shares[0]);
}

/* ---- A fit that is stopped and continued ---- */

static const char checkpoint[] = "build/storage.checkpoint";
static int stop_at, steps_seen;

static bool progress(void *user, const ft_progress *p)
{
    (void)user;
    steps_seen += !p->epoch_done;
    return steps_seen != stop_at;
}

static bool others;     /* the model file has other weights than the checkpoint */

/* Ends as `third`, unless it is stopped. */
static ft_status fit(ft_type type, bool map, int stop)
{
    ft_desc desc = {.seed = 5, .threads = 2, .files = own_files()};
    ft_load_options o = {.weights = {.map = map, .keep_types = map}};
    ft_fit_options options = {.epochs = 3, .batch_size = 4, .checkpoint = checkpoint,
                              .checkpoint_steps = 1, .progress = progress, .best = true,
                              .hold_back = 0.25f};
    ft_array_options arrays = {.classes = CLASSES};
    ft_model *m = ft_create(desc);
    ft_status status;
    ft_fit_result r;
    stop_at = stop;
    steps_seen = 0;
    ft_load(m, path, o);
    if (!map) store(m, type);
    r = ft_fit(m, ft_arrays(m, MOST_BATCH - 1, numbers, labels, arrays), options);
    status = ft_error(m);
    if (!status) {
        CHECK(r.stopped == (stop > 0) && r.before.frozen == r.after.frozen && r.before.tensors > 9,
              "the frozen digest");
        check_types(m, map ? ft_node_type(m, ft_find(m, "one.weight")) : type);
        CHECK(mapped_now == map || others, "%d are mapped", mapped_now);
        if (!r.stopped) ft_save(m, third, (ft_save_options){.type = FT_F32});
    }
    ft_destroy(m);
    return status;
}

static void halve(ft_model *m, const char *name)
{
    ft_node node = ft_find(m, name);
    size_t count = numbers_of(m, node), i;
    float *values = weight_of(m, node);
    for (i = 0; i < count; ++i) values[i] /= 2;
    ft_set(m, node, values, count);
    free(values);
}

static void test_resume(void)
{
    int t, map;
    for (t = 0; t < TYPES; ++t)
        for (map = 0; map < 2; ++map) {
            ft_model *m = build("pictures", NULL, NULL);
            unsigned char *want;
            size_t bytes;
            if (map) store(m, types[t]);
            ft_save(m, path, (ft_save_options){.type = FT_F32});
            ft_destroy(m);
            remove(checkpoint);
            CHECK(fit(types[t], map, 0) == FT_OK, "a whole fit");
            want = file_bytes(third, &bytes);
            remove(checkpoint);
            remove(third);
            CHECK(fit(types[t], map, 4) == FT_OK, "a stopped fit");
            CHECK(fit(types[t], map, 0) == FT_OK && same_bytes(third, want, bytes),
                  "%s, mapped %d: a continued fit ends with other bytes", type_names[t], map);
            remove(checkpoint);
            fit(types[t], map, 4);
            others = true;
            m = build("pictures", NULL, NULL);
            halve(m, "winograd.weight");
            halve(m, "one.weight");
            if (map) store(m, types[t]);
            ft_save(m, path, (ft_save_options){.type = FT_F32});
            ft_destroy(m);
            CHECK(fit(types[t], map, 0) == FT_OK && same_bytes(third, want, bytes),
                  "%s, mapped %d: the checkpoint's weights are not used", type_names[t], map);
            others = false;
            remove(checkpoint);
            fit(types[t], map, 4);
            CHECK(map || fit(types[(t + 1) % TYPES], false, 0) == FT_INVALID,
                  "%s: continued in another type", type_names[t]);
            CHECK(map || fit(FT_F32, false, 0) == FT_INVALID, "%s: continued in F32",
                  type_names[t]);
            remove(checkpoint);
            free(want);
        }
}

int main(void)
{
    fill();
    test_networks();
    test_computed_weight();
    test_all_halves();
    test_refused();
    test_round_trips();
    test_unfreeze();
    test_mapped_float32();
    test_memory();
    test_no_memory();
    test_truncated();
    test_digest();
    test_share();
    test_resume();
    test_device();
    return check_done("test_storage");
}
