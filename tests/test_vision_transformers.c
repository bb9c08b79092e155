/* test_vision_transformers.c - ViT, DeiT and DINOv2 from transformers' folders and in the spellings of
   timm and torchvision give their logits and ten steps (goldens made by tests/golden/make_vision.py),
   at another size too; a real network gives the hidden states of its authors. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "networks.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, CLASSES = 3, SIDE = 12, LARGER = 20, HIDDEN = 16 };

static const char folder[] = "tests/golden/vision";

static ft_model *load(const char *name, ft_load_options options)
{
    if (strstr(name, ".safetensors")) options.network.heads = 4;
    return load_from(folder, name, options);
}

static void feed(ft_model *m, ft_file *expected, const char *pictures, bool labels)
{
    static float x[SAMPLES * 3 * LARGER * LARGER];
    int32_t wanted[SAMPLES];
    golden_numbers(expected, "", pictures, x, sizeof x);
    golden_numbers(expected, "", "labels", wanted, sizeof wanted);
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
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES], before[SAMPLES * CLASSES];
    const char *key = key_of(name);
    char path[64];
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(!strcmp(ft_architecture(m), architecture), "%s is a %s", name, ft_architecture(m));
    CHECK(ft_class_count(m) == CLASSES, "%s: %d classes", name, ft_class_count(m));
    logits_of(m, expected, "pictures", got);
    golden_numbers(expected, key, "logits", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-4);
    GOLDEN_STEPS(m, expected, key, feed(m, expected, "pictures", true));
    logits_of(m, expected, "pictures", before);
    golden_numbers(expected, key, "after", want, sizeof want);
    compare_golden(name, before, want, SAMPLES * CLASSES, 1e-3);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    snprintf(path, sizeof path, "build/vision_%s.safetensors", key);
    ft_save(m, path, (ft_save_options){0}); /* for test_vision.sh, which loads it in PyTorch */
    again = ft_create((ft_desc){0});
    ft_load(again, path, (ft_load_options){0});
    logits_of(again, expected, "pictures", got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, before, sizeof got) == 0, "%s: saved, loaded: %s", name,
          ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* Stochastic depth: where a step draws the golden's mask, its logits, loss and update are PyTorch's;
   predictions do not drop anything. `branches`: those of each layer; NULL: that rate is 0. */
static void test_drop_path(ft_file *expected, const char *name, const char *const branches[2][2])
{
    ft_model *m = load(name, (ft_load_options){.network = {.drop_path = strstr(name, "timm") ? 0.3f : 0}});
    ft_file *drawn = open_golden(m, "vision/drop_path");
    static float branch[SAMPLES * 10 * HIDDEN];
    float masks[2][2][SAMPLES], want[SAMPLES * CLASSES], got[SAMPLES * CLASSES], loss = 0;
    const char *key = key_of(name);
    int tries = 0, wrong = 1, layer, part, n;
    golden_numbers(drawn, key, "masks", masks, sizeof masks);
    for (n = 0; n < 4; ++n)
        if (branches[n / 2][n % 2]) ft_keep(m, ft_find(m, branches[n / 2][n % 2]));
        else CHECK(masks[n / 2][n % 2][0] == 1, "%s: the rate of layer %d is 0", name, n / 2);
    for (; wrong && tries < 20000 && ft_error(m) == FT_OK; ++tries) {
        feed(m, expected, "pictures", true);
        loss = ft_forward(m, true);
        for (n = wrong = 0; n < 4 * SAMPLES; ++n) {
            layer = n / SAMPLES / 2;
            part = n / SAMPLES % 2;
            if (!branches[layer][part]) continue;
            ft_get(m, ft_find(m, branches[layer][part]), branch, SAMPLES * 10 * HIDDEN);
            wrong += (branch[n % SAMPLES * 10 * HIDDEN] != 0) != (masks[layer][part][n % SAMPLES] != 0);
        }
    }
    CHECK(!wrong && tries > 2, "%s: %d tries: %s", name, tries, ft_error_text(m));
    ft_get(m, ft_output(m), got, SAMPLES * CLASSES);
    golden_numbers(drawn, key, "logits", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-4);
    golden_numbers(drawn, key, "loss", want, sizeof want);
    CHECK(CLOSE(loss, want[0], 1e-4 * (double)want[0]), "%s: loss %g, not %g", name, (double)loss, (double)want[0]);
    ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_SGD});
    ft_backward(m);
    ft_update(m, 0.1f);
    logits_of(m, expected, "pictures", got);
    golden_numbers(drawn, key, "after", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-4);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    ft_file_close(drawn);
    ft_destroy(m);
}

/* Pictures of another size: the positions are resized. */
static void test_larger(ft_file *expected, const char *name)
{
    ft_model *m = load(name, (ft_load_options){.network = {.image_size = LARGER}});
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
    logits_of(m, expected, "larger", got);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(strstr(log_text, "3 x 3 patches are resized to 5 x 5") != NULL, "%s: %s", name, log_text);
    golden_numbers(expected, key_of(name), "larger", want, sizeof want);
    compare_golden("larger", got, want, SAMPLES * CLASSES, 1e-4);
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
        CHECK(strstr(log_text, "classifier.weight") != NULL, "the new head is not said: %s", log_text);
        ft_keep(m, ft_find(m, "layernorm"));
        feed(m, expected, larger ? "larger" : "pictures", false);
        ft_forward(m, false);
        count = golden_numbers(expected, "dinov2_bare", larger ? "larger" : "hidden", want, sizeof want);
        ft_get(m, ft_find(m, "layernorm"), got, count);
        CHECK(ft_error(m) == FT_OK && count > 0, "%s", ft_error_text(m));
        compare_golden("hidden", got, want, count, 1e-4);
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
    golden_numbers(expected, "positions", "table", table, sizeof table);
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
            golden_numbers(expected, "positions", key, want, sizeof want);
            compare_golden(key, got, want, (size_t)rows * 4, 1e-5);
            ft_destroy(m);
        }
    remove("build/positions.safetensors");
}

/* ---- preprocessor_config.json ---- */

/* A folder with vit's network and this preprocessor_config.json; NULL: none. */
static ft_model *with_processor(const char *text, ft_network_options network)
{
    ft_model *m = ft_create((ft_desc){.log = collect});
    FILE *file;
    mkdir("build/vision", 0777);
    CHECK(system("cp tests/golden/vision/vit/* build/vision") == 0, "cp");
    file = fopen("build/vision/preprocessor_config.json", "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "preprocessor_config.json");
    log_text[0] = 0;
    ft_load(m, "build/vision", (ft_load_options){.network = network});
    remove("build/vision/preprocessor_config.json");
    return m;
}

/* The input that Pillow makes of a photo. */
static void check_photo(ft_file *expected, ft_model *m, const char *key)
{
    unsigned char photo[30 * 21 * 3], wide[30 * 21 * 3];
    bool is_wide = !strcmp(key, "wide");
    int x, y, c;
    float got[3 * SIDE * SIDE], want[3 * SIDE * SIDE];
    ft_prediction best;
    golden_numbers(expected, "", "photo", photo, sizeof photo);
    for (y = 0; y < 30; ++y)
        for (x = 0; x < 21; ++x)
            for (c = 0; c < 3; ++c) wide[(x * 30 + y) * 3 + c] = photo[(y * 21 + x) * 3 + c];
    ft_predict_pixels(m, is_wide ? wide : photo, is_wide ? 30 : 21, is_wide ? 21 : 30, 3, &best, 1);
    ft_get(m, ft_find(m, "input"), got, 3 * SIDE * SIDE);
    CHECK(ft_error(m) == FT_OK, "%s: %s", key, ft_error_text(m));
    golden_numbers(expected, "photo", key, want, sizeof want);
    compare_golden(key, got, want, 3 * SIDE * SIDE, 1e-6);
}

static void test_processors(ft_file *expected)
{
    static const char colours[] = "\"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [0.5, 0.6, 0.7]";
    static const char *const wrong[][2] = {
        {"{\"size\": {\"shortest_edge\": 16}, \"do_center_crop\": false}", "do_center_crop"},
        {"{\"size\": {\"height\": 12, \"width\": 16}}", "size"},
        {"{\"size\": 12, \"crop_size\": {\"height\": 12, \"width\": 8}}", "crop_size"},
        {"{\"size\": 12, \"do_resize\": false}", "do_resize"},
        {"{\"size\": 12, \"do_rescale\": false}", "do_rescale"},
        {"{\"size\": 12, \"rescale_factor\": 0.0078}", "rescale_factor"},
        {"{\"size\": 12, \"do_flip_channel_order\": true}", "do_flip_channel_order"},
        {"{\"size\": 12, \"resample\": 1}", "resample"},
        {"{\"size\": 12, \"image_std\": [1, 1]}", "image_std"}};
    char text[400];
    ft_model *m;
    ft_preprocessing p;
    size_t i;
    snprintf(text, sizeof text, "{\"size\": {\"height\": 16, \"width\": 16}, \"crop_size\": {\"height\": 12,"
             " \"width\": 12}, \"resample\": 3, %s}", colours);
    m = with_processor(text, (ft_network_options){0});
    check_photo(expected, m, "square");
    check_photo(expected, m, "wide");
    ft_save(m, "build/vision/saved.safetensors", (ft_save_options){0});
    ft_destroy(m);
    m = ft_create((ft_desc){0});
    ft_load(m, "build/vision/saved.safetensors", (ft_load_options){0}); /* a model file keeps it */
    check_photo(expected, m, "square");
    ft_destroy(m);
    snprintf(text, sizeof text, "{\"size\": {\"shortest_edge\": 16}, \"crop_size\": 12, \"resample\": 3,"
             " \"do_center_crop\": true, \"do_rescale\": true, \"rescale_factor\": 0.00392156862745098, %s}",
             colours);
    m = with_processor(text, (ft_network_options){0});
    check_photo(expected, m, "edge");
    ft_destroy(m);
    m = with_processor(text, (ft_network_options){.image_size = 24}); /* in proportion */
    p = ft_get_preprocessing(m);
    CHECK(p.width == 24 && p.height == 24 && p.resize == 32 && p.bicubic && !p.stretch, "%d of %d", p.width,
          p.resize);
    ft_destroy(m);
    m = with_processor("{\"size\": {\"height\": 20, \"width\": 20}, \"do_normalize\": false}",
                       (ft_network_options){0});
    p = ft_get_preprocessing(m);
    CHECK(ft_error(m) == FT_OK && p.width == 20 && p.resize == 0 && !p.bicubic && p.mean[1] == 0 && p.std[1] == 1,
          "%s, %d pixels", ft_error_text(m), p.width);
    CHECK(strstr(log_text, "resized to 5 x 5") != NULL, "%s", log_text);
    ft_destroy(m);
    m = load("vit", (ft_load_options){0}); /* without the file: as published */
    p = ft_get_preprocessing(m);
    CHECK(p.width == SIDE && p.resize == 0 && !p.bicubic && p.mean[0] == 0.5f, "%d", p.width);
    ft_destroy(m);
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        m = with_processor(wrong[i][0], (ft_network_options){0});
        CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), wrong[i][1])
              && strstr(ft_error_text(m), "preprocessor_config.json"), "%s: %s", wrong[i][0], ft_error_text(m));
        ft_destroy(m);
    }
}

/* timm's folder: config.json has "pretrained_cfg", and no model_type. */
static void test_timm_folder(ft_file *expected)
{
    static const char *const wrong[][2] = {
        {"\"input_size\": [3, 12, 16]", "input_size"}, {"\"input_size\": [3, 12, 12], \"crop_pct\": 0", "crop_pct"},
        {"\"input_size\": [3, 12, 12], \"crop_mode\": \"squash\"", "crop_mode"},
        {"\"input_size\": [3, 12, 12], \"interpolation\": \"lanczos\"", "interpolation"},
        {"\"input_size\": [3, 12, 12], \"mean\": 0.5", "mean"},
        {"\"input_size\": [3, 12, 12], \"crop_pct\": 0.75, \"crop_mode\": \"center\", \"interpolation\":"
         " \"bicubic\", \"mean\": [0.1, 0.2, 0.3], \"std\": [0.5, 0.6, 0.7]", NULL}};
    size_t i;
    mkdir("build/timm", 0777);
    CHECK(system("cp tests/golden/vision/timm.safetensors build/timm/model.safetensors") == 0, "cp");
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        FILE *file = fopen("build/timm/config.json", "w");
        ft_model *m = ft_create((ft_desc){0});
        float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
        CHECK(file && fprintf(file, "{\"architecture\": \"vit_x\", \"pretrained_cfg\": {%s}}", wrong[i][0]) > 0
              && fclose(file) == 0, "config.json");
        ft_load(m, "build/timm", (ft_load_options){.network = {.heads = 4}});
        if (wrong[i][1])
            CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), wrong[i][1])
                  && strstr(ft_error_text(m), "build/timm/config.json"), "%s: %s", wrong[i][1], ft_error_text(m));
        else {
            check_photo(expected, m, "edge");
            logits_of(m, expected, "pictures", got);
            golden_numbers(expected, "timm", "logits", want, sizeof want);
            compare_golden("timm's folder", got, want, SAMPLES * CLASSES, 1e-4);
        }
        ft_destroy(m);
    }
}

/* ---- Heads, and the recipe ---- */

/* 16 pictures of noise in two classes. */
static ft_data *noise(ft_model *m)
{
    static unsigned char pixels[16][8 * 8 * 3];
    static const uint8_t *pictures[16];
    static ft_picture_size sizes[16];
    static int labels[16];
    unsigned state = 5, i, k;
    for (i = 0; i < 16; ++i) {
        for (k = 0; k < sizeof pixels[0]; ++k) {
            state = state * 1664525u + 1013904223u;
            pixels[i][k] = (unsigned char)(state >> 24);
        }
        pictures[i] = pixels[i];
        sizes[i].width = sizes[i].height = 8;
        labels[i] = i % 2;
    }
    return ft_pixels(m, 16, pictures, sizes, labels, (ft_pixels_options){0});
}

/* What one step of Adam changes: at first the learning rate, in the gradient's direction. */
static double moved(ft_model *m, const char *name, const float *before)
{
    float *after = weight_of(m, ft_find(m, name));
    size_t count = numbers_of(m, ft_find(m, name)), i;
    double most = 0;
    for (i = 0; i < count; ++i)
        if (fabs((double)after[i] - (double)before[i]) > most) most = fabs((double)after[i] - (double)before[i]);
    free(after);
    return most;
}

/* Learning rates fall by 0.75 with each layer below the head: one step of all shows them. */
static void test_layer_rates(const char *name, const char *const *parameters, const int *below)
{
    ft_model *m = load(name, (ft_load_options){0});
    float *before[5];
    int i;
    for (i = 0; i < 5; ++i) before[i] = weight_of(m, ft_find(m, parameters[i]));
    ft_replace_head(m, 2);
    ft_finetune(m, noise(m), (ft_finetune_options){.freeze = "", .epochs = 1, .batch_size = 16,
                                                   .learning_rate = 0.01f});
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    for (i = 0; i < 5; ++i) {
        double want = 0.01 * pow(0.75, below[i]), got = moved(m, parameters[i], before[i]);
        CHECK(CLOSE(got, want, 1e-3 * want), "%s: %s moved by %g, not %g", name, parameters[i], got, want);
        free(before[i]);
    }
    ft_destroy(m);
}

static void test_recipe(void)
{
    static const char *const vit[] = {"vit.embeddings.cls_token", "vit.encoder.layer.0.layernorm_before.bias",
                                      "vit.encoder.layer.1.output.dense.bias", "vit.layernorm.weight",
                                      "vit.embeddings.position_embeddings"};
    static const char *const torchvision[] = {
        "class_token", "encoder.layers.encoder_layer_0.ln_1.bias", "encoder.layers.encoder_layer_1.mlp.3.bias",
        "encoder.ln.weight", "conv_proj.bias"};
    static const int below[] = {3, 2, 1, 0, 3};
    ft_model *m;
    ft_finetune_result r;
    ft_digest before;
    float *head, *other;
    test_layer_rates("vit", vit, below);
    test_layer_rates("torchvision.safetensors", torchvision, below);
    m = load("deit_teacher", (ft_load_options){0}); /* both heads, and nothing else */
    ft_freeze(m, "*");
    ft_unfreeze(m, "*classifier*");
    before = ft_frozen_digest(m);
    r = ft_finetune(m, noise(m), (ft_finetune_options){.epochs = 2, .head_only = true});
    ft_freeze(m, "*");
    ft_unfreeze(m, "*classifier*");
    CHECK(ft_error(m) == FT_OK && ft_frozen_digest(m).frozen == before.frozen && r.fit.after.tensors == before.tensors
          && strstr(r.choice, "the head only; 2 epochs, learning rate 0.002"), "%s: %s", r.choice, ft_error_text(m));
    ft_finetune(m, noise(m), (ft_finetune_options){.head_only = true, .augmentation = {.shift = 0.1f}});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "augmentation has no effect"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = load("deit_teacher", (ft_load_options){0}); /* both heads are replaced, and trained */
    r = ft_finetune(m, noise(m), (ft_finetune_options){.epochs = 2});
    CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 2, "%s", ft_error_text(m));
    CHECK(r.choice[0] != 0 && r.fit.epochs == 2, "%s", r.choice);
    CHECK(ft_node_shape(m, ft_find(m, "cls_classifier.weight")).size[0] == 2
          && ft_node_shape(m, ft_find(m, "distillation_classifier.weight")).size[0] == 2, "their classes");
    head = weight_of(m, ft_find(m, "cls_classifier.bias"));
    other = weight_of(m, ft_find(m, "distillation_classifier.bias"));
    ft_freeze(m, "*");
    ft_unfreeze(m, "*classifier*");
    ft_fit(m, noise(m), (ft_fit_options){.epochs = 1});
    CHECK(moved(m, "cls_classifier.bias", head) > 0 && moved(m, "distillation_classifier.bias", other) > 0,
          "a head is not trained");
    free(head);
    free(other);
    ft_destroy(m);
}

/* ---- Adapters ---- */

/* A trained adapter's tensors for transformers 4 have the names that PEFT's file has. */
static void test_adapter_of_4(ft_model *m, ft_file *expected, const char *base)
{
    ft_model *again = load(base, (ft_load_options){0});
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
    ft_file *file, *peft;
    int i;
    mkdir("build/adapter_vit4", 0777);
    CHECK(ft_save_adapter(m, "build/adapter_vit4", (ft_save_adapter_options){.transformers = 4}) == FT_OK, "%s",
          ft_error_text(m));
    file = ft_file_open(m, "build/adapter_vit4/adapter_model.safetensors", (ft_weights_options){0});
    peft = ft_file_open(m, "tests/golden/vision/lora_vit4/adapter_model.safetensors", (ft_weights_options){0});
    for (i = 0; i < ft_file_count(peft); ++i)
        CHECK(ft_file_find(file, ft_file_tensor(peft, i).name) >= 0, "%s is missing", ft_file_tensor(peft, i).name);
    CHECK(ft_file_count(file) == ft_file_count(peft), "%d tensors", ft_file_count(file));
    ft_file_close(peft);
    ft_file_close(file);
    ft_load_adapter(again, "build/adapter_vit4");
    logits_of(m, expected, "pictures", want);
    logits_of(again, expected, "pictures", got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, want, sizeof got) == 0, "%s, again: %s", base,
          ft_error_text(again));
    ft_destroy(again);
    again = load(base, (ft_load_options){0}); /* a bias that is trained beside an adapter */
    ft_lora(again, "*0.attention*q*", (ft_lora_options){.rank = 2});
    ft_unfreeze(again, "*0.attention*q*.bias");
    for (i = 4; i <= 5; ++i) {
        ft_save_adapter(again, "build/adapter_vit4", (ft_save_adapter_options){.transformers = i});
        file = ft_file_open(again, "build/adapter_vit4/adapter_model.safetensors", (ft_weights_options){0});
        CHECK(ft_file_find(file, i == 4
                  ? "base_model.model.vit.encoder.layer.0.attention.attention.query.base_layer.bias"
                  : "base_model.model.vit.layers.0.attention.q_proj.base_layer.bias") >= 0, "%s, bias for %d: %s", base,
              i, ft_error_text(again));
        ft_file_close(file);
    }
    CHECK(ft_save_adapter(again, "build/adapter_vit4", (ft_save_adapter_options){.transformers = 3}) == FT_INVALID
          && strstr(ft_error_text(again), "transformers is 3; it must be 4 or 5"), "%s", ft_error_text(again));
    ft_destroy(again);
}

/* PEFT's adapter, with the names of transformers 5 or 4; the base may lack the prefix or have the other
   spelling. Its logits and ten steps, written and read again. */
static void test_adapter(ft_file *expected, const char *base, const char *name)
{
    ft_model *m = load(base, (ft_load_options){0}), *again;
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES];
    char path[300];
    ft_file *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ft_load_adapter(m, path);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    logits_of(m, expected, "pictures", got);
    golden_numbers(expected, "lora_vit", "logits", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-4);
    GOLDEN_STEPS(m, expected, "lora_vit", feed(m, expected, "pictures", true));
    logits_of(m, expected, "pictures", got);
    golden_numbers(expected, "lora_vit", "after", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-3);
    save_trained(m, "build/adapter_vit", got, SAMPLES * CLASSES);
    file = ft_file_open(m, "build/adapter_vit/adapter_model.safetensors", (ft_weights_options){0});
    CHECK(ft_file_find(file, "base_model.model.vit.layers.0.attention.q_proj.lora_A.weight") >= 0
          && ft_file_find(file, "base_model.model.vit.layers.1.mlp.fc2.lora_B.weight") >= 0
          && ft_file_find(file, "base_model.model.vit.layers.1.attention.o_proj.lora_B.weight") >= 0
          && ft_file_find(file, "base_model.model.classifier.weight") >= 0, "%s: names", base);
    ft_file_close(file);
    again = load(base, (ft_load_options){0});
    test_adapter_of_4(m, expected, base);
    ft_load_adapter(again, "build/adapter_vit");
    logits_of(again, expected, "pictures", want);
    CHECK(ft_error(again) == FT_OK && memcmp(got, want, sizeof got) == 0, "%s, again: %s", base,
          ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* LoRA beside all layers of a fused network, whose names are written as they are. */
static void test_fused_adapter(ft_file *expected)
{
    ft_model *m = load("timm.safetensors", (ft_load_options){0});
    float before[SAMPLES * CLASSES], after[SAMPLES * CLASSES];
    ft_file *file;
    logits_of(m, expected, "pictures", before);
    CHECK(ft_lora(m, NULL, (ft_lora_options){.rank = 2}) == 2 * 4 + 1, "%s", ft_error_text(m));
    logits_of(m, expected, "pictures", after);
    compare_golden("new adapters", after, before, SAMPLES * CLASSES, 1e-6);
    mkdir("build/adapter_timm", 0777);
    ft_save_adapter(m, "build/adapter_timm", (ft_save_adapter_options){0});
    file = ft_file_open(m, "build/adapter_timm/adapter_model.safetensors", (ft_weights_options){0});
    CHECK(ft_file_find(file, "base_model.model.blocks.1.attn.qkv.lora_A.weight") >= 0, "%s", ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
}

/* ---- Refusals ---- */

static void test_refusals(void)
{
    static const struct { ft_network_options o; const char *network, *text; } cases[] = {
        {{.heads = 5}, "vit", "heads must divide the features"}, {{.heads = 0}, "vit", "heads is needed"},
        {{.heads = 12, .patch_size = 500}, "vit", "larger than the picture"},
        {{.heads = 12, .spelling = "keras"}, "vit", "spelling is \"keras\""},
        {{.heads = 12, .spelling = "torchvision"}, "dinov2", "spelling is \"torchvision\""},
        {{.heads = 12, .two_heads = true}, "vit", "distillation token"},
        {{.heads = 12, .drop_path = 1}, "vit", "drop_path is 1"},
        {{.heads = 12, .drop_path = -0.1f}, "dinov2", "drop_path is -0.1"}};
    size_t i;
    ft_model *m;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        m = ft_create((ft_desc){0});
        ft_network(m, cases[i].network, cases[i].o);
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), cases[i].text), "%s: %s", cases[i].text,
              ft_error_text(m));
        ft_destroy(m);
    }
    m = ft_create((ft_desc){0}); /* 16 features: of no published size */
    ft_load(m, "tests/golden/vision/timm.safetensors", (ft_load_options){0});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "heads is needed"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = ft_create((ft_desc){.log = collect}); /* 192 features: ViT-Ti, whose heads are known and said */
    ft_network(m, "vit", (ft_network_options){.hidden = 192, .heads = 3, .layers = 1, .classes = 2,
                                              .image_size = 32, .spelling = "timm"});
    ft_save(m, "build/tiny.safetensors", (ft_save_options){.weights_only = true});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = ft_create((ft_desc){.log = collect});
    log_text[0] = 0;
    ft_load(m, "build/tiny.safetensors", (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && strstr(log_text, "3 heads"), "%s: %s", ft_error_text(m), log_text);
    ft_destroy(m);
    remove("build/tiny.safetensors");
}

/* ---- A real one: DINOv2 ViT-S/14 ---- */

static void test_dinov2_small(void)
{
    enum { PICTURES = 1, STEPS = 257, FEATURES = 384 };
    static float got[PICTURES * 3 * 224 * 224], want[PICTURES * STEPS * FEATURES];
    const char *data = getenv("FINETUNE_DATA");
    char path[400];
    ft_model *m;
    ft_file *expected;
    if (data) snprintf(path, sizeof path, "%s/weights/dinov2_small/expected.npz", data);
    if (!data || access(path, R_OK) != 0) {
        SKIP("needs FINETUNE_DATA/weights/dinov2_small");
        return;
    }
    m = ft_create((ft_desc){.log = collect, .threads = 2});
    expected = ft_file_open(m, path, (ft_weights_options){0});
    CHECK(golden_numbers(expected, "", "x", got, sizeof got) == PICTURES * 3 * 224 * 224
          && golden_numbers(expected, "", "last_hidden", want, sizeof want) == PICTURES * STEPS * FEATURES,
          "expected.npz is not as described: %s", ft_error_text(m));
    ft_file_close(expected);
    snprintf(path, sizeof path, "%s/weights/dinov2_small", data);
    log_text[0] = 0;
    ft_load(m, path, (ft_load_options){.network = {.classes = 2}});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(strstr(log_text, "37 x 37 patches are resized to 16 x 16") != NULL, "%s", log_text);
    ft_keep(m, ft_find(m, "layernorm"));
    ft_feed(m, ft_find(m, "input"), got, PICTURES);
    ft_forward(m, false);
    ft_get(m, ft_find(m, "layernorm"), got, PICTURES * STEPS * FEATURES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare_golden("dinov2_small", got, want, PICTURES * STEPS * FEATURES, 1e-4);
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
    test_drop_path(expected, "dinov2_drop", (const char *const[2][2]){
        {"dinov2.encoder.layer.0.attention.output.dense.drop_path",
         "dinov2.encoder.layer.0.mlp.fc2.drop_path"},
        {"dinov2.encoder.layer.1.attention.output.dense.drop_path",
         "dinov2.encoder.layer.1.mlp.fc2.drop_path"}});
    test_drop_path(expected, "timm_scale.safetensors", (const char *const[2][2]){
        {NULL, NULL}, {"blocks.1.attn.proj.drop_path", "blocks.1.mlp.fc2.drop_path"}});
    test_bare(expected);
    test_positions(expected);
    test_processors(expected);
    test_timm_folder(expected);
    test_recipe();
    test_adapter(expected, "vit", "lora_vit");
    test_adapter(expected, "vit", "lora_vit4");
    test_fused_adapter(expected);
    test_refusals();
    test_dinov2_small();
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_vision_transformers");
}
