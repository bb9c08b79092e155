/* test_keras.c - Keras' files: the networks in them give what Keras gives, before and after a step of
   Adam, in each form. Without libhdf5 it is skipped.
   "test_keras FOLDER" checks all that tests/golden/make_keras.py made there. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include "public.h"
#include "goldens.h"
#include "../examples/tool/hdf5.h"

enum { MOST = 1 << 16 };

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1, .hdf5 = hdf5_of_system()};
    return ft_create(desc);
}

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

/* NAME in FOLDER, in one form. */
static void check_form(const char *folder, const char *name, const char *form, bool arch)
{
    static float got[MOST], want[MOST];
    char path[512], other[512], after[512];
    ft_model *m, *reader = new_model();
    ft_weights_options none = {0};
    ft_file *expected;
    size_t count;
    int batch;
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
    }
    ft_file_close(expected);
    ft_destroy(reader);
    ft_destroy(m);
}

/* All models of a folder, each in the forms that are there. */
static void check_folder(const char *folder)
{
    static const char *const forms[] = {"keras", "h5", "weights.h5"};
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

int main(int count, char **word)
{
    if (!hdf5_of_system().open) SKIP("no libhdf5");
    else if (count > 1) check_folder(word[1]);
    else {
        check_folder("tests/golden/keras");
        test_fer();
        test_refused();
    }
    return check_done("test_keras");
}
