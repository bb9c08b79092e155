/* test_vision_transformers.c - ViT, DeiT and DINOv2 from transformers' folders and in the spellings of
   timm and torchvision give their logits and ten steps (goldens made by tests/golden/make_vision.py),
   at another size too; a real network gives the hidden states of its authors. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, CLASSES = 3, SIDE = 12, LARGER = 20, HIDDEN = 16 };

static const char folder[] = "tests/golden/vision";
static char noted[8192]; /* what the log said */

static void note(void *user, const char *text)
{
    size_t used = strlen(noted);
    (void)user;
    snprintf(noted + used, sizeof noted - used, "%s\n", text);
}

static ft_model *load(const char *name, ft_load_options options)
{
    ft_model *m = ft_create((ft_desc){.log = note, .threads = 2});
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    noted[0] = 0;
    if (strstr(name, ".safetensors")) options.network.heads = 4;
    ft_load(m, path, options);
    return m;
}

static size_t read_expected(ft_file *file, const char *network, const char *key, void *to, size_t bytes)
{
    char name[128];
    int index;
    ft_tensor_info info;
    snprintf(name, sizeof name, "%s%s%s", network, *network ? "/" : "", key);
    index = ft_file_find(file, name);
    CHECK(index >= 0, "%s is missing", name);
    info = ft_file_tensor(file, index);
    CHECK(info.bytes <= bytes, "%s is too large", name);
    return index >= 0 && info.bytes <= bytes && ft_file_read(file, index, to, (size_t)info.bytes) == FT_OK
        ? (size_t)info.bytes / 4 : 0;
}

static void compare(const char *what, const float *got, const float *want, size_t count, double tolerance)
{
    double largest = 0, worst = 0;
    size_t i;
    for (i = 0; i < count; ++i) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    CHECK(largest > 0.1 && worst <= tolerance * largest, "%s: off by %g of %g", what, worst, largest);
}

static void feed(ft_model *m, ft_file *expected, const char *pictures, bool labels)
{
    static float x[SAMPLES * 3 * LARGER * LARGER];
    int32_t wanted[SAMPLES];
    read_expected(expected, "", pictures, x, sizeof x);
    read_expected(expected, "", "labels", wanted, sizeof wanted);
    ft_feed(m, ft_find(m, "input"), x, SAMPLES);
    if (labels) ft_feed(m, ft_find(m, "labels"), wanted, SAMPLES);
}

static void logits_of(ft_model *m, ft_file *expected, const char *pictures, float *to)
{
    feed(m, expected, pictures, false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), to, SAMPLES * CLASSES);
}

/* The file without its ending, by which the goldens go. */
static const char *key_of(const char *name)
{
    static char key[64];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(name, "."), name);
    return key;
}

/* Logits, ten steps of training, and a round trip through a file. */
static void test_golden(ft_file *expected, const char *name, const char *architecture)
{
    ft_model *m = load(name, (ft_load_options){0}), *again;
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES], losses[10], before[SAMPLES * CLASSES];
    const char *key = key_of(name);
    char path[64];
    int step;
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(!strcmp(ft_architecture(m), architecture), "%s is a %s", name, ft_architecture(m));
    CHECK(ft_class_count(m) == CLASSES, "%s: %d classes", name, ft_class_count(m));
    logits_of(m, expected, "pictures", got);
    read_expected(expected, key, "logits", want, sizeof want);
    compare(name, got, want, SAMPLES * CLASSES, 1e-4);
    read_expected(expected, key, "losses", losses, sizeof losses);
    ft_set_optimizer(m, (ft_optimizer_options){.weight_decay = 0.01f});
    for (step = 0; step < 10; ++step) {
        float loss;
        feed(m, expected, "pictures", true);
        loss = ft_forward(m, true);
        CHECK(CLOSE(loss, losses[step], 1e-3 * (double)losses[step]), "%s, step %d: loss %g, PyTorch %g",
              name, step, (double)loss, (double)losses[step]);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    logits_of(m, expected, "pictures", before);
    read_expected(expected, key, "after", want, sizeof want);
    compare(name, before, want, SAMPLES * CLASSES, 1e-3);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    snprintf(path, sizeof path, "build/vision_%s.safetensors", key);
    ft_save(m, path, (ft_save_options){0}); /* test_vision.sh loads it in PyTorch */
    again = ft_create((ft_desc){0});
    ft_load(again, path, (ft_load_options){0});
    logits_of(again, expected, "pictures", got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, before, sizeof got) == 0, "%s: saved, loaded: %s", name,
          ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* Pictures of another size: the positions are resized. */
static void test_larger(ft_file *expected, const char *name)
{
    ft_model *m = load(name, (ft_load_options){.network = {.image_size = LARGER}});
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
    logits_of(m, expected, "larger", got);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(strstr(noted, "3 x 3 patches are resized to 5 x 5") != NULL, "%s: %s", name, noted);
    read_expected(expected, key_of(name), "larger", want, sizeof want);
    compare("larger", got, want, SAMPLES * CLASSES, 1e-4);
    CHECK(ft_get_preprocessing(m).width == LARGER, "%d pixels", ft_get_preprocessing(m).width);
    ft_destroy(m);
}

/* A network without a head: the last hidden states, and a new head for any classes. */
static void test_bare(ft_file *expected)
{
    enum { MOST = SAMPLES * 26 * HIDDEN };
    static float got[MOST], want[MOST];
    int larger;
    for (larger = 0; larger < 2; ++larger) {
        size_t count;
        ft_model *m = load("dinov2_bare", (ft_load_options){.network = {.classes = 7,
                                              .image_size = larger ? LARGER : 0}});
        CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 7, "%s", ft_error_text(m));
        CHECK(strstr(noted, "classifier.weight") != NULL, "the new head is not said: %s", noted);
        ft_keep(m, ft_find(m, "layernorm"));
        feed(m, expected, larger ? "larger" : "pictures", false);
        ft_forward(m, false);
        count = read_expected(expected, "dinov2_bare", larger ? "larger" : "hidden", want, sizeof want);
        ft_get(m, ft_find(m, "layernorm"), got, count);
        CHECK(ft_error(m) == FT_OK && count > 0, "%s", ft_error_text(m));
        compare("hidden", got, want, count, 1e-4);
        ft_destroy(m);
    }
}

/* Tables of positions of each library, to a smaller and a larger square. */
static void test_positions(ft_file *expected)
{
    static const char *const names[] = {"embeddings.position_embeddings", "pos_embed",
                                        "encoder.pos_embedding"};
    static const int sides[] = {3, 8};
    float table[26 * 4], got[65 * 4], want[65 * 4];
    int i, k;
    read_expected(expected, "positions", "table", table, sizeof table);
    for (i = 0; i < 3; ++i)
        for (k = 0; k < 2; ++k) {
            ft_model *m = ft_create((ft_desc){0});
            int rows = 1 + sides[k] * sides[k];
            char key[64];
            const char *last = strrchr(names[i], '.');
            ft_parameter(m, names[i], (ft_parameter_options){.size = {1, 26, 4}});
            ft_set(m, ft_find(m, names[i]), table, 26 * 4);
            ft_save(m, "build/positions.safetensors", (ft_save_options){.weights_only = true});
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            ft_destroy(m);
            m = ft_create((ft_desc){0});
            ft_parameter(m, names[i], (ft_parameter_options){.size = {1, rows, 4}});
            ft_load_weights(m, "build/positions.safetensors", (ft_weights_options){0});
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            ft_get(m, ft_find(m, names[i]), got, (size_t)rows * 4);
            snprintf(key, sizeof key, "%s/%d", last ? last + 1 : names[i], sides[k]);
            read_expected(expected, "positions", key, want, sizeof want);
            compare(key, got, want, (size_t)rows * 4, 1e-5);
            ft_destroy(m);
        }
    remove("build/positions.safetensors");
}

/* ---- A real one: DINOv2 ViT-S/14 ---- */

char *stbi_zlib_decode_noheader_malloc(char const *buffer, int length, int *got); /* in the library's file */

/* The numbers of NAME.npy in a compressed .npz, copied to `to`; false: they are not there. */
static bool array_in(const unsigned char *file, size_t bytes, const char *name, float *to, size_t count)
{
    size_t i, n = strlen(name);
    for (i = 0; i + 64 + n < bytes; ++i) {
        size_t at = i + 30 + n;
        int got = 0;
        bool right;
        char *npy;
        if (memcmp(file + i, "PK\3\4", 4) != 0 || memcmp(file + i + 30, name, n) != 0) continue;
        at += file[i + 28] + 256u * file[i + 29]; /* the extra field */
        npy = stbi_zlib_decode_noheader_malloc((const char *)file + at, (int)(bytes - at), &got);
        right = npy && got > 128 && memcmp(npy, "\x93NUMPY\1\0", 8) == 0
            && (size_t)got >= count * sizeof(float);
        if (right) memcpy(to, npy + (size_t)got - count * sizeof(float), count * sizeof(float));
        free(npy);
        return right;
    }
    return false;
}

static unsigned char *whole_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char *content = NULL;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    content = (unsigned char *)calloc(*bytes + 128, 1);
    if (fread(content, 1, *bytes, file) != *bytes) *bytes = 0;
    fclose(file);
    return content;
}

static void test_dinov2_small(void)
{
    enum { PICTURES = 1, STEPS = 257, FEATURES = 384 };
    static float got[PICTURES * 3 * 224 * 224], want[PICTURES * STEPS * FEATURES];
    size_t bytes = 0;
    unsigned char *file;
    const char *data = getenv("FINETUNE_DATA");
    char path[400];
    ft_model *m;
    if (data) snprintf(path, sizeof path, "%s/weights/dinov2_small/expected.npz", data);
    file = data ? whole_file(path, &bytes) : NULL;
    if (!file) {
        SKIP("needs FINETUNE_DATA/weights/dinov2_small");
        return;
    }
    CHECK(array_in(file, bytes, "x.npy", got, PICTURES * 3 * 224 * 224)
          && array_in(file, bytes, "last_hidden.npy", want, PICTURES * STEPS * FEATURES),
          "expected.npz is not as described");
    free(file);
    m = ft_create((ft_desc){.log = note, .threads = 2});
    snprintf(path, sizeof path, "%s/weights/dinov2_small", data);
    noted[0] = 0;
    ft_load(m, path, (ft_load_options){.network = {.classes = 2}});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(strstr(noted, "37 x 37 patches are resized to 16 x 16") != NULL, "%s", noted);
    ft_keep(m, ft_find(m, "layernorm"));
    ft_feed(m, ft_find(m, "input"), got, PICTURES);
    ft_forward(m, false);
    ft_get(m, ft_find(m, "layernorm"), got, PICTURES * STEPS * FEATURES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare("dinov2_small", got, want, PICTURES * STEPS * FEATURES, 1e-4);
    ft_destroy(m);
}

int main(void)
{
    static const char *const names[][2] = {
        {"vit", "vit"}, {"vit_tanh", "vit"}, {"deit", "deit"}, {"deit_teacher", "deit"},
        {"dinov2", "dinov2"}, {"vit5.safetensors", "vit"}, {"dinov2_5.safetensors", "dinov2"},
        {"timm.safetensors", "vit"}, {"timm_scale.safetensors", "dinov2"},
        {"timm_deit.safetensors", "deit"}, {"torchvision.safetensors", "vit"}};
    static const char *const larger[] = {"vit", "deit", "deit_teacher", "dinov2"};
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected;
    char path[300];
    size_t i;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    expected = ft_file_open(m, path, (ft_weights_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < sizeof names / sizeof names[0]; ++i) test_golden(expected, names[i][0], names[i][1]);
    for (i = 0; i < sizeof larger / sizeof larger[0]; ++i) test_larger(expected, larger[i]);
    test_bare(expected);
    test_positions(expected);
    test_dinov2_small();
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_vision_transformers");
}
