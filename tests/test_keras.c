/* test_keras.c - Keras' files: the networks in them give what Keras gives, before and after a step of
   Adam, in each form; and what is written for Keras. Without libhdf5 it is skipped.
   "test_keras FOLDER" checks all that tests/golden/make_keras.py made there. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include "public.h"
#include "goldens.h"
#include "host_files.h"
#include "../examples/tool/hdf5.h"

enum { MOST = 1 << 16 };

static void *host_open(void *user, const char *path, bool write)
{
    (void)user;
    return fopen(path, write ? "wb" : "rb");
}

static ft_model *model_with(ft_hdf5 hdf5)
{
    ft_desc desc = {.threads = 1, .hdf5 = hdf5, .files = host_files(host_open)};
    return ft_create(desc);
}

static ft_model *new_model(void) { return model_with(hdf5_of_system()); }

/* Loads a file; `architecture`: of the network, or NULL. */
static ft_model *load(const char *path, const char *architecture)
{
    ft_model *m = new_model();
    ft_load_options options = {.architecture = architecture};
    CHECK(ft_load(m, path, options) == FT_OK, "%s: %s", path, ft_error_text(m));
    return m;
}

/* Feeds all "in/NAME" and the labels or targets; returns the batch. */
static int feed(ft_model *m, ft_file *expected)
{
    static float numbers[MOST];
    int i, d, batch = 0;
    for (i = 0; i < ft_file_count(expected); ++i) {
        ft_tensor_info t = ft_file_tensor(expected, i);
        const char *name = !strncmp(t.name, "in/", 3) ? t.name + 3 : t.name;
        ft_node node = ft_find(m, name);
        size_t count = 1;
        if (!node.id || (name == t.name && strcmp(name, "labels") && strcmp(name, "target"))) continue;
        for (d = 0; d < t.shape.rank; ++d) count *= (size_t)t.shape.size[d];
        if (ft_node_shape(m, node).rank > 1 && ft_node_shape(m, node).size[1] == FT_LENGTH)
            ft_set_length(m, t.shape.size[1]);
        if (count <= MOST) ft_file_read(expected, i, numbers, (size_t)t.bytes);
        batch = t.shape.size[0];
        ft_feed(m, node, numbers, batch);
    }
    return batch;
}

/* The output as Keras gives it: after the softmax or sigmoid, which the loss has in it here. */
static size_t outputs(ft_model *m, int batch, float *y)
{
    ft_node output = ft_output(m);
    ft_shape shape = ft_node_shape(m, output);
    size_t count = numbers_of(m, output) * (size_t)batch, last = (size_t)shape.size[shape.rank - 1], i, k;
    bool softmax = strstr(ft_graph_text(m), "\"op\":\"softmax\"") != NULL;
    bool sigmoid = strstr(ft_graph_text(m), "\"op\":\"binary_cross_entropy\"") != NULL;
    ft_forward(m, false);
    if (count > MOST || ft_get(m, output, y, count) != FT_OK) return 0;
    for (i = 0; i < count && (softmax || sigmoid); i += last) {
        double sum = 0;
        for (k = 0; k < last; ++k) sum += exp((double)y[i + k]);
        for (k = 0; k < last; ++k)
            y[i + k] = softmax ? (float)(exp((double)y[i + k]) / sum)
                               : (float)(1 / (1 + exp(-(double)y[i + k])));
    }
    return count;
}

static size_t expected_numbers(ft_file *expected, const char *name, float *to)
{
    return golden_numbers(expected, "", name, to, MOST * sizeof *to);
}

/* One step of Adam with Keras' defaults. Keras adds its epsilon before it corrects the second moment,
   in the first step by 1 - 0.999. */
static float step(ft_model *m)
{
    ft_optimizer_options adam = {.optimizer = FT_ADAM, .eps = 3.1622777e-6f};
    float loss;
    ft_set_optimizer(m, adam);
    loss = ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 1e-3f);
    return loss;
}

/* Every weight is that of another file of the same network. Keras' running variance is biased, ours is
   not, as PyTorch's. */
static void compare_weights(ft_model *m, const char *path, const char *architecture)
{
    static float got[MOST], want[MOST];
    ft_model *other = load(path, architecture);
    int id, count = ft_node_count(m);
    for (id = 1; id <= count && !ft_error(other); ++id) {
        ft_node node = {id}, same = ft_find(other, ft_node_name(m, node));
        ft_shape shape = ft_node_shape(m, node);
        size_t numbers = numbers_of(m, node), i;
        double worst = 0;
        const char *name = ft_node_name(m, node);
        bool statistic = strstr(name, ".running_") != NULL;
        double largest = 0, bound;
        if (shape.rank < 1 || numbers > MOST || !(statistic || strstr(name, ".weight") || strstr(name, ".bias")))
            continue;
        if (ft_get(m, node, got, numbers) != FT_OK || ft_get(other, same, want, numbers) != FT_OK) break;
        for (i = 0; i < numbers; ++i) {
            worst = worse(worst, fabs((double)got[i] - (double)want[i]));
            if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
        }
        bound = statistic ? 1e-3 * largest : 1e-5; /* a step is 1e-3 */
        CHECK(worst <= bound, "%s: %s is off by %g", path, name, worst);
    }
    CHECK(!ft_error(m) && !ft_error(other), "%s%s", ft_error_text(m), ft_error_text(other));
    ft_destroy(other);
}

static const char *const forms[] = {"keras", "h5", "weights.h5"};

/* NAME in FOLDER, in one form. */
static void check_form(const char *folder, const char *name, const char *form, bool arch)
{
    static float got[MOST], want[MOST];
    char path[512], other[512], after[512];
    ft_model *m, *reader = new_model();
    ft_weights_options none = {0};
    ft_file *expected;
    size_t count;
    int batch, i;
    float loss = 0;
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    expected = ft_file_open(reader, path, none);
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, form);
    snprintf(other, sizeof other, "%s/%s.keras", folder, name);
    snprintf(after, sizeof after, "%s/%s.after.weights.h5", folder, name);
    m = load(path, arch ? other : NULL);
    if (!ft_error(m) && expected) {
        batch = feed(m, expected);
        count = outputs(m, batch, got);
        CHECK(count > 0 && expected_numbers(expected, "y", want) == count, "%s: %s", path, ft_error_text(m));
        compare_golden(path, got, want, count, 1e-4);
        expected_numbers(expected, "loss", &loss);
        CHECK(CLOSE(step(m), loss, 1e-4 * fabs((double)loss)), "%s: the loss is not %g", path, (double)loss);
        outputs(m, batch, got);
        expected_numbers(expected, "y_after", want);
        compare_golden(path, got, want, count, 1e-3);
        if (access(after, R_OK) == 0) compare_weights(m, after, other);
        for (i = 0; access(after, R_OK) == 0 && !strcmp(form, "keras") && i < 3; ++i) { /* for Keras to load */
            snprintf(path, sizeof path, "%s/%s.ours.%s", folder, name, forms[i]);
            CHECK(ft_save(m, path, (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m));
        }
    }
    ft_file_close(expected);
    ft_destroy(reader);
    ft_destroy(m);
}

/* All models of a folder, each in the forms that are there. */
static void check_folder(const char *folder)
{
    DIR *open = opendir(folder);
    struct dirent *entry;
    while (open && (entry = readdir(open)) != NULL) {
        char name[256], path[512];
        size_t length = strlen(entry->d_name), i;
        if (length < 13 || strcmp(entry->d_name + length - 12, ".safetensors") != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(length - 12), entry->d_name);
        for (i = 0; i < 3; ++i) {
            snprintf(path, sizeof path, "%s/%s.%s", folder, name, forms[i]);
            if (access(path, R_OK) == 0) check_form(folder, name, forms[i], i == 2);
        }
    }
    CHECK(open, "%s: no such folder", folder);
    if (open) closedir(open);
}

/* The probabilities that a form of fer gives for its pictures; 0: it is not there. */
static size_t fer(const char *file, const char *architecture, float *y)
{
    static float x[2 * 64 * 64], want[14];
    const char *data = getenv("FINETUNE_DATA");
    char path[512], other[512], expected[512];
    size_t count, i;
    ft_model *m;
    ft_file *arrays;
    snprintf(path, sizeof path, "%s/formats/%s", data ? data : "", file);
    snprintf(other, sizeof other, "%s/formats/%s", data ? data : "", architecture ? architecture : "");
    snprintf(expected, sizeof expected, "%s/formats/fer.expected.npz", data ? data : "");
    if (access(path, R_OK) != 0) return 0;
    m = load(path, architecture ? other : NULL);
    arrays = ft_file_open(m, expected, (ft_weights_options){0});
    CHECK(arrays && ft_file_read_f32(arrays, ft_file_find(arrays, "x"), x, 2 * 64 * 64) == FT_OK
          && ft_file_read_f32(arrays, ft_file_find(arrays, "y"), want, 14) == FT_OK, "%s",
          ft_error_text(m));
    ft_file_close(arrays);
    ft_feed(m, ft_find(m, "input"), x, 2);
    count = outputs(m, 2, y);
    for (i = 0; i < 14 && i < count; ++i)
        CHECK(fabs((double)(y[i] - want[i])) < 1e-4, "%s: %zu is %g, not %g", file, i, (double)y[i],
              (double)want[i]);
    ft_destroy(m);
    return count;
}

/* One network in three forms gives the same bits. */
static void test_fer(void)
{
    static float y[3][MOST];
    size_t count = fer("fer.keras", NULL, y[0]);
    if (count == 0) {
        SKIP("no FINETUNE_DATA/formats/fer.keras");
        return;
    }
    CHECK(count == 14 && fer("fer.h5", NULL, y[1]) == 14 && fer("fer.weights.h5", "fer.keras", y[2]) == 14,
          "%zu outputs", count);
    CHECK(!memcmp(y[0], y[1], 14 * sizeof(float)) && !memcmp(y[0], y[2], 14 * sizeof(float)),
          "%g %g %g", (double)y[0][0], (double)y[1][0], (double)y[2][0]);
}

/* What cannot be mapped is named, all of it, and nothing is built. */
static void test_refused(void)
{
    static const char *const texts[] = {"3 places", "twisted (Twist): a layer that is not known",
                                        "dense (Dense): the field magic", "activation wobble"};
    ft_model *m = new_model();
    ft_load_options options = {.architecture = NULL};
    size_t i;
    ft_load(m, "tests/golden/keras/refused.keras", options);
    CHECK(ft_error(m) == FT_UNSUPPORTED && ft_node_count(m) == 0, "%s", ft_error_text(m));
    for (i = 0; i < 4; ++i) CHECK(strstr(ft_error_text(m), texts[i]), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Written for Keras ---- */

static const char *const written[] = {"build/test_keras.weights.h5", "build/test_keras.h5", "build/test_keras.keras"};

static bool same_files(const char *a, const char *b)
{
    FILE *one = fopen(a, "rb"), *other = fopen(b, "rb");
    int x = 0, y = one && other ? 0 : 1;
    while (x == y && x != EOF) {
        x = fgetc(one);
        y = fgetc(other);
    }
    if (one) fclose(one);
    if (other) fclose(other);
    return x == y;
}

/* The network of a golden after a step of Adam, so that its weights are no longer those of the file. */
static ft_model *trained(const char *name, ft_file **expected, int *batch)
{
    char path[512];
    ft_model *m;
    snprintf(path, sizeof path, "tests/golden/keras/%s.keras", name);
    m = load(path, NULL);
    snprintf(path, sizeof path, "tests/golden/keras/%s.safetensors", name);
    *expected = ft_file_open(m, path, (ft_weights_options){0});
    *batch = *expected ? feed(m, *expected) : 0;
    step(m);
    return m;
}

/* Each form, read again, is the same network with the same weights; and the same bytes if it is
   written again. */
static void check_written(const char *name)
{
    static float before[MOST], after[MOST];
    ft_file *expected;
    int batch, form;
    ft_model *m = trained(name, &expected, &batch);
    size_t count = outputs(m, batch, before);
    for (form = 0; form < 3; ++form) {
        ft_model *again;
        CHECK(ft_save(m, written[form], (ft_save_options){0}) == FT_OK, "%s: %s", name, ft_error_text(m));
        again = load(written[form], NULL);
        if (!ft_error(again)) feed(again, expected);
        CHECK(outputs(again, batch, after) == count && count > 0
              && !memcmp(before, after, count * sizeof(float)), "%s: %s: %s", name, written[form], ft_error_text(again));
        ft_save(again, "build/test_keras_again.h5", (ft_save_options){0});
        if (form == 0) ft_save(m, "build/test_keras_first.h5", (ft_save_options){0});
        CHECK(!ft_error(again) && same_files("build/test_keras_first.h5", "build/test_keras_again.h5"),
              "%s: %s: %s", name, written[form], ft_error_text(again));
        ft_destroy(again);
    }
    ft_file_close(expected);
    ft_destroy(m);
}

/* A dataset, by libhdf5 alone. */
static size_t dataset(const char *path, const char *name, float *to, size_t most)
{
    ft_hdf5 h = hdf5_of_system();
    const hdf5_library *l = (const hdf5_library *)h.user;
    hdf5_id file = l->H5Fopen(path, HDF5_READ_ONLY, 0), id = file < 0 ? -1 : l->H5Oopen(file, name, 0), space;
    uint64_t sizes[8] = {0};
    size_t count = 1;
    int rank = 0, d;
    if (id >= 0) {
        space = l->H5Dget_space(id);
        rank = l->H5Sget_simple_extent_dims(space, sizes, NULL);
        l->H5Sclose(space);
    }
    for (d = 0; d < rank; ++d) count *= (size_t)sizes[d];
    if (rank < 1 || count > most || l->H5Dread(id, hdf5_type(l, FT_F32), 0, 0, 0, to) < 0) count = 0;
    if (id >= 0) l->H5Oclose(id);
    if (file >= 0) l->H5Fclose(file);
    return count;
}

/* How a variable of Keras' lies: [rows, columns], of which our weight is the transposed one, the
   columns in groups of `group` that are exchanged as a GRU's gates are. */
typedef struct variable {
    const char *network, *place, *name; /* in .weights.h5 and in .h5 */
    const char *weight;                 /* ours */
    int area, rows, columns;            /* of a kernel: height * width first; rows 0: a vector */
    int gates;                          /* 3: z, r, h there are r, z, n here */
    bool depthwise;                     /* [area, rows, columns] is [rows, columns, area] here */
} variable;

static const variable variables[] = {
    {"pixels", "layers/conv2d/vars/0", "model_weights/stem/stem/kernel", "stem.weight", 9, 3, 6, 1, false},
    {"pixels", "layers/conv2d_1/vars/0", "model_weights/conv2d/conv2d/kernel", "conv2d.weight", 4, 6, 8, 1, false},
    {"pixels", "layers/depthwise_conv2d/vars/0", "model_weights/depthwise_conv2d/depthwise_conv2d/kernel",
     "depthwise_conv2d.weight", 6, 6, 2, 1, true},
    {"pixels", "layers/separable_conv2d/vars/0", "model_weights/separable_conv2d/separable_conv2d/depthwise_kernel",
     "separable_conv2d.depthwise.weight", 9, 12, 2, 1, true},
    {"pixels", "layers/separable_conv2d/vars/1", "model_weights/separable_conv2d/separable_conv2d/pointwise_kernel",
     "separable_conv2d.pointwise.weight", 1, 24, 6, 1, false},
    {"pixels", "layers/batch_normalization/vars/1",
     "model_weights/batch_normalization/batch_normalization/moving_mean", "batch_normalization.running_mean", 1, 0, 6, 1, false},
    {"pixels", "layers/dense/vars/0", "model_weights/head/head/kernel", "head.weight", 1, 32, 5, 1, false},
    {"words", "layers/embedding/vars/0", "model_weights/embedding/embedding/embeddings", "embedding.weight", 1, 0, 66, 1, false},
    {"words", "layers/bidirectional/backward_layer/cell/vars/1",
     "model_weights/bidirectional/bidirectional/backward_lstm/lstm_cell/recurrent_kernel",
     "bidirectional.weight_hh_l0_reverse", 1, 4, 16, 1, false},
    {"words", "layers/gru/cell/vars/0", "model_weights/gru/gru/gru_cell/kernel", "gru.weight_ih_l0", 1, 8, 15, 3, false},
    {"words", "layers/simple_rnn/cell/vars/1", "model_weights/simple_rnn/simple_rnn/simple_rnn_cell/recurrent_kernel",
     "simple_rnn.weight_hh_l0", 1, 4, 4, 1, false},
    {"attention", "layers/multi_head_attention/query_dense/vars/0",
     "model_weights/multi_head_attention/multi_head_attention/query/kernel", "multi_head_attention.query.weight", 1, 8, 6, 1, false},
    {"attention", "layers/multi_head_attention/output_dense/vars/0",
     "model_weights/multi_head_attention/multi_head_attention/attention_output/kernel",
     "multi_head_attention.output.weight", 1, 8, 8, 1, false},
    {"larger", "layers/conv2d_transpose/vars/0", "model_weights/conv2d_transpose_2/conv2d_transpose_2/kernel",
     "conv2d_transpose_2.weight", 9, 3, 2, 1, false},
    {"shapes", "layers/p_re_lu/vars/0", "model_weights/p_re_lu/p_re_lu/alpha", "p_re_lu.weight", 1, 0, 2, 1, false},
    {"nested", "layers/functional/layers/conv2d/vars/0", "model_weights/body/body/conv/kernel", "body.conv.weight", 9, 2, 4, 1, false},
};

/* The weight's number that belongs at [a, r, c] of Keras'. */
static size_t place_of(const variable *v, int a, int r, int c)
{
    static const int exchanged[] = {1, 0, 2};
    int group = v->gates == 3 ? v->columns / 3 : v->columns;
    if (v->depthwise) return (size_t)((r * v->columns + c) * v->area + a);
    if (v->gates == 3) c = exchanged[c / group] * group + c % group;
    return (size_t)((c * (v->rows ? v->rows : 1) + r) * v->area + a);
}

/* The datasets of both forms, number by number. */
static void test_layouts(void)
{
    static float theirs[2][MOST], ours[MOST];
    const char *network = "";
    ft_model *m = NULL;
    ft_file *expected = NULL;
    size_t i;
    for (i = 0; i < sizeof variables / sizeof variables[0]; ++i) {
        const variable *v = &variables[i];
        int rows = v->rows ? v->rows : 1, a, r, c, batch, wrong = 0;
        size_t count = (size_t)(v->area * rows * v->columns), k = 0;
        if (strcmp(network, v->network) != 0) {
            ft_file_close(expected);
            ft_destroy(m);
            m = trained(network = v->network, &expected, &batch);
            ft_save(m, written[0], (ft_save_options){0});
            ft_save(m, written[1], (ft_save_options){0});
        }
        CHECK(ft_get(m, ft_find(m, v->weight), ours, count) == FT_OK, "%s", ft_error_text(m));
        CHECK(dataset(written[0], v->place, theirs[0], MOST) == count && dataset(written[1], v->name, theirs[1], MOST) == count,
              "%s, %s: not %zu numbers", v->place, v->name, count);
        for (a = 0; a < v->area; ++a)
            for (r = 0; r < rows; ++r)
                for (c = 0; c < v->columns; ++c, ++k)
                    wrong += !CLOSE(theirs[0][k], ours[place_of(v, a, r, c)], 0)
                        || !CLOSE(theirs[1][k], ours[place_of(v, a, r, c)], 0);
        CHECK(wrong == 0, "%s: %d numbers are wrong", v->place, wrong);
    }
    ft_file_close(expected);
    ft_destroy(m);
}

/* The texts of an attribute, each with a 0 at its end, equal `want` of so many bytes. */
static bool has_attribute(const char *path, const char *at, const char *name, const char *want, size_t bytes)
{
    static char file[1 << 20], text[1 << 16];
    ft_hdf5 h = hdf5_of_system();
    FILE *open = fopen(path, "rb");
    size_t size = open ? fread(file, 1, sizeof file, open) : 0;
    void *opened = h.open(h.user, file, size);
    ft_hdf5_item item;
    bool found = false;
    int i;
    if (open) fclose(open);
    for (i = 0; opened && h.item(h.user, opened, i, &item); ++i)
        if (item.attribute && !strcmp(item.path, at) && !strcmp(item.attribute, name))
            found = item.bytes == bytes && h.read(h.user, opened, i, text) && !memcmp(text, want, bytes);
    if (opened) h.close(h.user, opened);
    return found;
}

/* Keras finds layers by these names, and variables by their order. */
static void test_names(void)
{
    static const char head[] = "head/kernel\0head/bias", norm[] = /* those that are trained first */
        "batch_normalization/beta\0batch_normalization/moving_mean\0batch_normalization/moving_variance", gru[] =
        "bidirectional_1/forward_gru/gru_cell/kernel\0bidirectional_1/forward_gru/gru_cell/recurrent_kernel\0"
        "bidirectional_1/forward_gru/gru_cell/bias\0bidirectional_1/backward_gru/gru_cell/kernel\0"
        "bidirectional_1/backward_gru/gru_cell/recurrent_kernel\0bidirectional_1/backward_gru/gru_cell/bias";
    static const char layers[] = "input_layer_5\0activation\0cropping2d_1\0body\0add_2\0tail\0dense_12";
    ft_file *expected;
    int batch;
    ft_model *m = trained("pixels", &expected, &batch);
    ft_save(m, written[0], (ft_save_options){0});
    ft_save(m, written[1], (ft_save_options){0});
    CHECK(has_attribute(written[0], "layers/conv2d/vars", "name", "stem", 5), "no stem");
    CHECK(has_attribute(written[0], "layers/conv2d_1/vars", "name", "conv2d", 7), "no conv2d");
    CHECK(has_attribute(written[1], "model_weights/head", "weight_names", head, sizeof head), "not the head's names");
    CHECK(has_attribute(written[1], "model_weights/batch_normalization", "weight_names", norm, sizeof norm), "not the norm's names");
    CHECK(has_attribute(written[1], "model_weights/flatten", "weight_names", "", 0), "not flatten's names");
    CHECK(has_attribute(written[1], "", "keras_version", "3.15.1", 7), "not the version");
    ft_file_close(expected);
    ft_destroy(m);
    m = trained("steps", &expected, &batch);
    ft_save(m, written[1], (ft_save_options){0});
    CHECK(has_attribute(written[1], "model_weights/bidirectional_1", "weight_names", gru, sizeof gru), "not the GRU's names");
    ft_file_close(expected);
    ft_destroy(m);
    m = trained("nested", &expected, &batch);
    ft_save(m, written[1], (ft_save_options){0});
    CHECK(has_attribute(written[1], "model_weights", "layer_names", layers, sizeof layers), "not the layers' names");
    ft_file_close(expected);
    ft_destroy(m);
}

/* A new head has as many units in the config; names of classes stay; weights alone need no network. */
static void test_new_head(void)
{
    static const char *const classes[] = {"a", "b", "c"};
    static float x[3 * 3 * 9 * 8], logits[2][9];
    ft_file *expected;
    int batch, form;
    ft_model *m = trained("pixels", &expected, &batch), *again;
    ft_file_read_f32(expected, ft_file_find(expected, "in/input"), x, sizeof x / sizeof *x);
    ft_replace_head(m, 3);
    ft_set_class_names(m, 3, classes);
    ft_save(m, "build/test_keras.safetensors", (ft_save_options){0});
    for (form = 0; form < 3; ++form) { /* from the model, and from a file that keeps the config */
        again = load(form ? "build/test_keras.safetensors" : "tests/golden/keras/pixels.keras", NULL);
        if (!form) ft_replace_head(again, 3);
        if (!form) ft_load_weights(again, "build/test_keras.safetensors", (ft_weights_options){0});
        CHECK(ft_save(again, written[form], (ft_save_options){0}) == FT_OK, "%s", ft_error_text(again));
        ft_destroy(again);
        again = load(written[form], NULL);
        CHECK(ft_class_count(again) == 3 && (!form || !strcmp(ft_class_name(again, 2), "c")), "%s", written[form]);
        ft_run(m, x, 3, logits[0], 9);
        CHECK(ft_run(again, x, 3, logits[1], 9) == FT_OK && !memcmp(logits[0], logits[1], sizeof logits[0]),
              "%s: %s", written[form], ft_error_text(again));
        ft_destroy(again);
    }
    ft_replace_head(m, 6); /* more than before */
    CHECK(ft_save(m, written[2], (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m));
    again = load(written[2], NULL);
    CHECK(ft_class_count(again) == 6, "%d classes", ft_class_count(again));
    ft_destroy(again);
    ft_file_close(expected);
    ft_destroy(m);
}

/* The config is that of the file that --arch names, if it is. */
static void test_other_file(void)
{
    ft_file *expected;
    int batch;
    ft_model *m = trained("steps", &expected, &batch), *again;
    ft_save(m, "build/test_keras.safetensors", (ft_save_options){.weights_only = true});
    ft_save(m, written[1], (ft_save_options){0});
    again = load("build/test_keras.safetensors", "tests/golden/keras/steps.keras");
    CHECK(ft_save(again, "build/test_keras_again.h5", (ft_save_options){0}) == FT_OK, "%s", ft_error_text(again));
    CHECK(same_files(written[1], "build/test_keras_again.h5"), "not the same file");
    ft_destroy(again);
    again = new_model();
    ft_load_graph(again, "tests/golden/keras/steps.keras", (ft_graph_options){0});
    ft_load_weights(again, "build/test_keras.safetensors", (ft_weights_options){0});
    CHECK(ft_save(again, "build/test_keras_again.h5", (ft_save_options){0}) == FT_OK, "%s", ft_error_text(again));
    CHECK(same_files(written[1], "build/test_keras_again.h5"), "not the same file");
    ft_destroy(again);
    ft_file_close(expected);
    ft_destroy(m);
}

/* Tensors without a network: the file's own numbers in the other forms. */
static void test_tensors(void)
{
    static float a[MOST], b[MOST];
    ft_model *m = new_model();
    ft_file *from = ft_file_open(m, "tests/golden/keras/words.keras", (ft_weights_options){0}), *to;
    int form, i;
    for (form = 0; form < 3; ++form) {
        CHECK(ft_file_save(from, written[form], (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m));
        to = ft_file_open(m, written[form], (ft_weights_options){0});
        CHECK(ft_file_count(to) == ft_file_count(from) && ft_file_count(from) == 18, "%s: %d tensors", written[form],
              ft_file_count(to));
        for (i = 0; i < ft_file_count(from); ++i) {
            ft_tensor_info t = ft_file_tensor(from, i);
            size_t count = (size_t)t.bytes / 4;
            ft_file_read_f32(from, i, a, count);
            ft_file_read_f32(to, ft_file_find(to, t.name), b, count);
            CHECK(!ft_error(m) && !memcmp(a, b, count * sizeof(float)), "%s: %s", written[form], t.name);
        }
        ft_file_close(to);
    }
    ft_file_close(from);
    ft_destroy(m);
}

/* A model inside a model inside a model, as Keras 2 has it: TensorFlow's counts the calls of a model from 1, and
   a .h5 names the layer without the model between; .weights.h5 has numbers of classes alone. */
static void check_inside(int call, const char *place)
{
    static const char format[] = "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,3],\"name\":\"x\"},\"name\":\"x\","
        "\"inbound_nodes\":[]},{\"class_name\":\"Functional\",\"config\":{\"name\":\"outer\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,3],\"name\":\"y\"},\"name\":\"y\","
        "\"inbound_nodes\":[]},{\"class_name\":\"Sequential\",\"config\":{\"name\":\"inner\",\"layers\":["
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\",\"units\":2,\"use_bias\":false}}]},\"name\":\"inner\","
        "\"inbound_nodes\":[[[\"y\",0,0,{}]]]}],\"input_layers\":[[\"y\",0,0]],\"output_layers\":[[\"inner\",%d,0]]},"
        "\"name\":\"outer\",\"inbound_nodes\":[[[\"x\",0,0,{}]]]}],\"input_layers\":[[\"x\",0,0]],"
        "\"output_layers\":[[\"outer\",%d,0]]}}";
    static const float kernel[] = {1, 2, 3, 4, 5, 6}, x[] = {1, 10, 100};
    ft_hdf5 h = hdf5_of_system();
    ft_hdf5_item texts = {.path = "", .attribute = "model_config", .type = FT_OTHER},
        numbers = {.path = place, .type = FT_F32, .rank = 2, .size = {3, 2}};
    char config[2000], bytes[20000];
    float y[2] = {0, 0}, again[6];
    void *made = h.open(h.user, NULL, 0);
    ft_load_options options = {.weights.memory = bytes};
    ft_model *m = new_model();
    snprintf(config, sizeof config, format, call, call);
    h.write(h.user, made, &texts, config);
    texts.attribute = "keras_version";
    h.write(h.user, made, &texts, "2.15.0");
    h.write(h.user, made, &numbers, kernel);
    texts.path = "model_weights/outer";
    texts.attribute = "weight_names";
    if (*place == 'm') h.write(h.user, made, &texts, "d/kernel:0");
    options.weights.bytes = h.bytes(h.user, made, bytes, sizeof bytes);
    h.close(h.user, made);
    CHECK(ft_load(m, "memory.h5", options) == FT_OK && ft_run(m, x, 1, y, 2) == FT_OK, "%s", ft_error_text(m));
    CHECK(CLOSE(y[0], 531, 1e-3) && CLOSE(y[1], 642, 1e-3), "%g %g", (double)y[0], (double)y[1]);
    CHECK(ft_save(m, written[1], (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m)); /* and in full */
    CHECK(dataset(written[1], "model_weights/outer/outer/inner/d/kernel:0", again, 6) == 6
          && !memcmp(again, kernel, sizeof kernel), "another kernel");
    ft_destroy(m);
}

/* Keras 2 calls the layers inside MultiHeadAttention _query_dense, ..., Keras 3 query_dense. */
static void test_old_attention(void)
{
    static const char config[] = "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4,3],\"name\":\"x\"},\"name\":\"x\","
        "\"inbound_nodes\":[]},{\"class_name\":\"MultiHeadAttention\",\"config\":{\"name\":\"multi_head_attention\","
        "\"num_heads\":1,\"key_dim\":2,\"use_bias\":false},\"name\":\"multi_head_attention\","
        "\"inbound_nodes\":[[[\"x\",0,0,{\"value\":[\"x\",0,0]}]]]}],\"input_layers\":[[\"x\",0,0]],"
        "\"output_layers\":[[\"multi_head_attention\",0,0]]}}";
    static const char *const parts[] = {"query", "key", "value", "output"};
    static const float kernel[] = {1, 2, 3, 4, 5, 6}, turned[] = {1, 3, 5, 2, 4, 6};
    ft_hdf5 h = hdf5_of_system();
    ft_hdf5_item texts = {.path = "", .attribute = "model_config", .type = FT_OTHER},
        numbers = {.type = FT_F32, .rank = 3};
    char path[100], bytes[20000];
    float got[6] = {0};
    void *made = h.open(h.user, NULL, 0);
    ft_load_options options = {.weights.memory = bytes};
    ft_model *m = new_model();
    int i;
    h.write(h.user, made, &texts, config);
    for (i = 0; i < 4; ++i) {
        snprintf(path, sizeof path, "layers/multi_head_attention/_%s_dense/vars/0", parts[i]);
        numbers.path = path;
        numbers.size[0] = i < 3 ? 3 : 1;
        numbers.size[1] = i < 3 ? 1 : 2;
        numbers.size[2] = i < 3 ? 2 : 3;
        h.write(h.user, made, &numbers, kernel);
    }
    options.weights.bytes = h.bytes(h.user, made, bytes, sizeof bytes);
    h.close(h.user, made);
    CHECK(ft_load(m, "memory.h5", options) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_get(m, ft_find(m, "multi_head_attention.query.weight"), got, 6) == FT_OK && !memcmp(got, turned, sizeof got),
          "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A number of a layer that no int holds is that of no layer; not, as the rest of it, of the first. */
static void test_large_number(void)
{
    static const char config[] = "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,3],\"name\":\"x\"},\"name\":\"x\","
        "\"inbound_nodes\":[]},{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\",\"units\":2,\"use_bias\":false},"
        "\"name\":\"d\",\"inbound_nodes\":[[[\"x\",0,0,{}]]]}],\"input_layers\":[[\"x\",0,0]],\"output_layers\":[[\"d\",0,0]]}}";
    static const char *const places[] = {"layers/dense/vars/0", "layers/dense_4294967296/vars/0"};
    static const float kernel[] = {1, 2, 3, 4, 5, 6};
    ft_hdf5 h = hdf5_of_system();
    int i;
    for (i = 0; i < 2; ++i) {
        ft_hdf5_item texts = {.path = "", .attribute = "model_config", .type = FT_OTHER},
            numbers = {.path = places[i], .type = FT_F32, .rank = 2, .size = {3, 2}};
        char bytes[20000];
        ft_load_options options = {.weights.memory = bytes};
        ft_model *m = new_model();
        void *made = h.open(h.user, NULL, 0);
        h.write(h.user, made, &texts, config);
        h.write(h.user, made, &numbers, kernel);
        options.weights.bytes = h.bytes(h.user, made, bytes, sizeof bytes);
        h.close(h.user, made);
        CHECK((ft_load(m, "memory.h5", options) == FT_OK) == (i == 0), "%s: %s", places[i], ft_error_text(m));
        ft_destroy(m);
    }
}

/* Two directions, one of them with the reset gate before the product. */
static void test_two_resets(void)
{
    static const char config[] = "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4,3],\"name\":\"x\"}},"
        "{\"class_name\":\"Bidirectional\",\"config\":{\"name\":\"b\",\"merge_mode\":\"concat\",\"layer\":{"
        "\"class_name\":\"GRU\",\"config\":{\"name\":\"f\",\"units\":2,\"reset_after\":false}},\"backward_layer\":{"
        "\"class_name\":\"GRU\",\"config\":{\"name\":\"g\",\"units\":2,\"go_backwards\":true,\"reset_after\":true}}}}]}}";
    ft_hdf5 h = hdf5_of_system();
    ft_hdf5_item texts = {.path = "", .attribute = "model_config", .type = FT_OTHER};
    char bytes[20000];
    ft_load_options options = {.weights.memory = bytes};
    ft_model *m = new_model();
    void *made = h.open(h.user, NULL, 0);
    h.write(h.user, made, &texts, config);
    options.weights.bytes = h.bytes(h.user, made, bytes, sizeof bytes);
    h.close(h.user, made);
    CHECK(ft_load(m, "memory.h5", options) != FT_OK && strstr(ft_error_text(m), "another reset_after"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* What cannot be written is refused in one line, before and instead of writing. */
static void refuses(ft_model *m, const char *path, ft_save_options options, ft_status status, const char *text)
{
    remove(path);
    CHECK(ft_check_save(m, path, options) == status && strstr(ft_error_text(m), text), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_save(m, path, options) == status && strstr(ft_error_text(m), text), "%s", ft_error_text(m));
    CHECK(access(path, F_OK) != 0, "%s was written", path);
    ft_clear_error(m);
}

static void test_not_written(void)
{
    ft_save_options none = {0}, alone = {.weights_only = true}, half = {.type = FT_F16};
    ft_file *expected;
    int batch;
    ft_model *m = trained("steps", &expected, &batch);
    ft_dropout_options dropout = {.probability = 0.5f};
    refuses(m, written[0], alone, FT_INVALID, "weights_only has no effect");
    refuses(m, written[1], half, FT_INVALID, "type has no effect");
    ft_freeze(m, "conv1d*");
    CHECK(ft_save(m, written[1], none) == FT_OK, "%s", ft_error_text(m));
    ft_set_output(m, ft_dropout(m, "more", ft_output(m), dropout));
    refuses(m, written[2], none, FT_UNSUPPORTED, "no longer the one of its Keras config");
    ft_file_close(expected);
    ft_destroy(m);
    m = load("tests/golden/keras/steps.keras", NULL); /* a node of the same name that does something else */
    ft_swap_activations(m, "*.relu", "tanh", (ft_activation_options){0});
    refuses(m, written[2], none, FT_UNSUPPORTED, "no longer the one of its Keras config, at conv1d");
    ft_destroy(m);
    m = new_model();
    ft_network(m, "keras_cnn", (ft_network_options){.classes = 10, .image_size = 32});
    refuses(m, written[0], none, FT_UNSUPPORTED, "opened from a file of Keras");
    ft_destroy(m);
}

/* Weights in another type are written as float32, which is all that Keras' files hold. */
static void test_stored(void)
{
    static const ft_type types[] = {FT_I8, FT_BF16};
    static float kept[MOST], got[MOST];
    size_t i;
    for (i = 0; i < 2; ++i) {
        ft_model *m = load("tests/golden/keras/steps.keras", NULL), *again;
        ft_node node = ft_find(m, "conv1d.weight");
        ft_shape shape = ft_node_shape(m, node);
        size_t count = (size_t)shape.size[0] * (size_t)shape.size[1] * (size_t)shape.size[2];
        ft_freeze(m, "*");
        CHECK(shape.rank == 3 && count <= MOST && ft_set_type(m, "conv1d.*", types[i]) > 0
              && ft_get(m, node, kept, count) == FT_OK, "%s", ft_error_text(m));
        CHECK(ft_save(m, written[1], (ft_save_options){0}) == FT_OK, "%s", ft_error_text(m));
        again = load(written[1], NULL);
        CHECK(ft_get(again, ft_find(again, "conv1d.weight"), got, count) == FT_OK
              && !memcmp(got, kept, count * sizeof(float)), "%s: other numbers", ft_error_text(again));
        ft_destroy(again);
        ft_destroy(m);
    }
}

/* libhdf5, whose writes fail from number `writes_left` on. */
static int writes_left;

static bool write_some(void *user, void *file, const ft_hdf5_item *item, const void *from)
{
    return writes_left-- > 0 && hdf5_write(user, file, item, from);
}

/* A write that fails, at any place, leaves the file that was there. */
static void test_failing_writes(void)
{
    ft_hdf5 failing = hdf5_of_system(), half = failing;
    int failed, form;
    ft_model *m;
    failing.write = write_some;
    m = model_with(failing);
    ft_load(m, "tests/golden/keras/nested.keras", (ft_load_options){0});
    for (form = 0; form < 2; ++form) {
        writes_left = 100;
        ft_save(m, "build/test_keras_first.h5", (ft_save_options){0});
        writes_left = 100;
        ft_save(m, written[form], (ft_save_options){0});
        for (failed = 0; failed < 100; ++failed) {
            writes_left = failed;
            if (ft_save(m, written[form], (ft_save_options){0}) == FT_OK) break;
            CHECK(ft_error(m) == FT_IO && strstr(ft_error_text(m), "cannot be written as HDF5"), "%s", ft_error_text(m));
            ft_clear_error(m);
            CHECK(access(written[form], R_OK) == 0, "%s is gone", written[form]);
        }
        CHECK(failed > 20 && failed < 100, "%d writes", failed);
    }
    CHECK(same_files(written[1], "build/test_keras_first.h5"), "another file");
    ft_destroy(m);
    half.bytes = NULL;
    m = model_with(half);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "hdf5: set all"), "%s", ft_error_text(m));
    ft_destroy(m);
    half.write = NULL;
    m = model_with(half);
    ft_load(m, "tests/golden/keras/nested.keras", (ft_load_options){0});
    refuses(m, written[0], (ft_save_options){0}, FT_UNSUPPORTED, "needs ft_desc.hdf5");
    ft_destroy(m);
}

int main(int count, char **word)
{
    static const char *const names[] = {"pixels", "words", "steps", "attention", "shapes", "nested", "larger", "resets"};
    size_t i;
    if (!hdf5_of_system().open) SKIP("no libhdf5");
    else if (count > 1) check_folder(word[1]);
    else {
        check_folder("tests/golden/keras");
        test_fer();
        test_refused();
        for (i = 0; i < sizeof names / sizeof names[0]; ++i) check_written(names[i]);
        test_layouts();
        test_names();
        test_new_head();
        test_other_file();
        test_tensors();
        check_inside(0, "model_weights/outer/d/kernel:0");
        check_inside(1, "model_weights/outer/d/kernel:0");
        check_inside(1, "layers/functional/layers/sequential/layers/dense/vars/0");
        test_old_attention();
        test_large_number();
        test_two_resets();
        test_not_written();
        test_stored();
        test_failing_writes();
    }
    return check_done("test_keras");
}
