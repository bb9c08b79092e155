/* test_decoders.c - GPT-2, Llama, Qwen2 and Qwen3 from Hugging Face's folders give its logits, its ten
   steps and its text (goldens made by tests/golden/make_decoders.py), so do PEFT's adapters, both ways;
   stories260K tells its story. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, STEPS = 9, WORDS = 30, CLASSES = 3, MOST = SAMPLES * STEPS * WORDS };

static const char folder[] = "tests/golden/decoders";
static char noted[4096]; /* what the log said */

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
    return ft_file_read(file, index, to, (size_t)info.bytes) == FT_OK ? (size_t)info.bytes / 4 : 0;
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

/* The next tokens of a language model, or texts of some lengths for a classifier, padded by 1. */
static void feed(ft_model *m, ft_file *expected, bool labels)
{
    int32_t ids[SAMPLES * STEPS], next[SAMPLES * STEPS], lengths[SAMPLES];
    int i, classes = ft_class_count(m);
    read_expected(expected, "", "ids", ids, sizeof ids);
    read_expected(expected, "", "lengths", lengths, sizeof lengths);
    for (i = 0; i < SAMPLES * STEPS; ++i) next[i] = i % STEPS < STEPS - 1 ? ids[i + 1] : -100;
    for (i = 0; classes && i < SAMPLES * STEPS; ++i)
        if (i % STEPS >= lengths[i / STEPS]) ids[i] = 1;
    if (classes) read_expected(expected, "", "labels", next, sizeof next);
    ft_set_length(m, STEPS);
    ft_feed(m, ft_find(m, "tokens"), ids, SAMPLES);
    if (classes) ft_feed(m, ft_find(m, "lengths"), lengths, SAMPLES);
    if (labels) ft_feed(m, ft_find(m, "labels"), next, SAMPLES);
}

static size_t logits_of(ft_model *m, ft_file *expected, float *to)
{
    size_t count = (size_t)SAMPLES * (size_t)(ft_class_count(m) ? CLASSES : STEPS * WORDS);
    feed(m, expected, false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), to, count);
    return count;
}

/* Logits and ten steps, as PyTorch has them; leaves the logits after them in `after`. */
static size_t check_training(ft_model *m, ft_file *expected, const char *name, float *after)
{
    static float got[MOST], want[MOST];
    float losses[10];
    size_t count = logits_of(m, expected, got);
    int step;
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(read_expected(expected, name, "logits", want, sizeof want) == count, "%s: logits", name);
    compare(name, got, want, count, 1e-4);
    read_expected(expected, name, "losses", losses, sizeof losses);
    ft_set_optimizer(m, (ft_optimizer_options){.weight_decay = 0.01f});
    for (step = 0; step < 10; ++step) {
        float loss;
        feed(m, expected, true);
        loss = ft_forward(m, true);
        CHECK(CLOSE(loss, losses[step], 1e-3 * (double)losses[step]), "%s, step %d: loss %g, PyTorch %g",
              name, step, (double)loss, (double)losses[step]);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    logits_of(m, expected, after);
    read_expected(expected, name, "after", want, sizeof want);
    compare(name, after, want, count, 1e-3);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    return count;
}

/* Of a file, by ours: the shape of a tensor; rank 0: there is none. */
static ft_shape shape_in(const char *path, const char *name)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_file *file = ft_file_open(m, path, (ft_weights_options){0});
    ft_shape shape = ft_file_tensor(file, ft_file_find(file, name)).shape;
    ft_file_close(file);
    ft_destroy(m);
    return shape;
}

static void test_golden(ft_file *expected, const char *name)
{
    static float after[MOST], got[MOST];
    ft_model *m = load(name, (ft_load_options){0}), *again;
    size_t count = check_training(m, expected, name, after);
    char path[64];
    snprintf(path, sizeof path, "build/decoder_%s.safetensors", name);
    ft_save(m, path, (ft_save_options){0});
    again = ft_create((ft_desc){0});
    ft_load(again, path, (ft_load_options){0});
    logits_of(again, expected, got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, after, count * sizeof *got) == 0, "%s: saved, loaded: %s",
          name, ft_error_text(again));
    CHECK(ft_max_length(again) == 16, "%s: %d positions", name, ft_max_length(again));
    ft_destroy(again);
    again = ft_create((ft_desc){0}); /* mapped, in the types of the file */
    ft_load(again, path, (ft_load_options){.weights = {.map = true, .keep_types = true}});
    logits_of(again, expected, got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, after, count * sizeof *got) == 0, "%s: mapped: %s",
          name, ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* GPT-2's weights keep their place in files of every type; one weight is the embedding and the head. */
static void test_files(ft_file *expected)
{
    static const ft_type types[] = {FT_F16, FT_BF16};
    static const double tolerances[] = {5e-3, 5e-2, 5e-2};
    static float want[MOST], got[MOST], mapped[MOST];
    ft_model *m = load("gpt2", (ft_load_options){0}), *again;
    ft_shape shape;
    int i;
    size_t count = logits_of(m, expected, want);
    const char *path = "build/decoder_types.safetensors";
    CHECK(!ft_find(m, "lm_head.weight").id && ft_find(m, "lm_head").id, "the head's weight is the embedding");
    for (i = 0; i < 3; ++i) {
        if (i < 2) ft_save(m, path, (ft_save_options){.type = types[i]});
        else {
            ft_freeze(m, "*");
            ft_set_type(m, "*", FT_I8);
            ft_save(m, path, (ft_save_options){0});
        }
        shape = shape_in(path, "transformer.h.1.attn.c_attn.weight");
        CHECK(shape.rank == 2 && shape.size[0] == (i < 2 ? 16 : 48) && shape.size[1] == (i < 2 ? 48 : 16),
              "[%d, %d]", shape.size[0], shape.size[1]);
        again = ft_create((ft_desc){0});
        ft_load(again, path, (ft_load_options){0});
        logits_of(again, expected, got);
        CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
        compare("in another type", got, want, count, tolerances[i]);
        ft_destroy(again);
        again = ft_create((ft_desc){0});
        ft_load(again, path, (ft_load_options){.weights = {.map = i != 1, .keep_types = true}});
        logits_of(again, expected, mapped);
        CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
        compare("mapped", mapped, got, count, 1e-5);
        ft_destroy(again);
    }
    ft_destroy(m);
    remove(path);
    CHECK(shape_in("build/decoder_gpt2.safetensors", "transformer.h.0.mlp.c_proj.weight").size[0] == 20,
          "in, out");
    CHECK(shape_in("build/decoder_gpt2.safetensors", "lm_head.weight").rank == 0, "the tied head is no tensor");
    CHECK(shape_in("build/decoder_llama.safetensors", "lm_head.weight").rank == 2, "this one has its own");
}

/* ---- Adapters ---- */

static void test_adapter(ft_file *expected, const char *name, const char *base)
{
    static float trained[MOST], got[MOST];
    ft_model *m = load(base, (ft_load_options){0}), *again;
    char path[300], config[4096] = "";
    size_t count;
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ft_load_adapter(m, path);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    count = check_training(m, expected, name, trained);
    snprintf(path, sizeof path, "build/adapter_%s", name);
    mkdir(path, 0777);
    ft_save_adapter(m, path);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    snprintf(path, sizeof path, "build/adapter_%s/logits.f32", name); /* for test_peft.sh */
    file = fopen(path, "wb");
    CHECK(file && fwrite(trained, sizeof *trained, count, file) == count && fclose(file) == 0, "%s", path);
    snprintf(path, sizeof path, "build/adapter_%s/adapter_config.json", name);
    file = fopen(path, "rb");
    CHECK(file && fread(config, 1, sizeof config - 1, file) > 0, "%s", path);
    if (file) fclose(file);
    CHECK(!!strstr(config, "\"fan_in_fan_out\": true") == !strcmp(base, "gpt2"), "%s", config);
    snprintf(path, sizeof path, "build/adapter_%s", name);
    again = load(base, (ft_load_options){0});
    ft_load_adapter(again, path);
    logits_of(again, expected, got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, trained, count * sizeof *got) == 0,
          "%s, written and read: %s", name, ft_error_text(again));
    CHECK(ft_merge(again) > 0, "%s", ft_error_text(again));
    logits_of(again, expected, got);
    compare("merged", got, trained, count, 1e-5);
    ft_destroy(again);
    ft_destroy(m);
}

/* Meta's names and pairs: the network of llama_tied, its sizes in the metadata. */
static void test_meta(ft_file *expected)
{
    static float got[MOST], want[MOST];
    ft_model *m = load("meta.safetensors", (ft_load_options){0});
    size_t count = logits_of(m, expected, got);
    CHECK(ft_error(m) == FT_OK && !strcmp(ft_architecture(m), "meta_llama"), "%s", ft_error_text(m));
    CHECK(ft_max_length(m) == 16, "%d", ft_max_length(m));
    read_expected(expected, "llama_tied", "logits", want, sizeof want);
    compare("meta", got, want, count, 1e-4);
    ft_destroy(m);
}

int main(void)
{
    static const char *const networks[] = {"gpt2", "gpt2_classes", "llama", "llama_tied", "llama_bias",
                                           "llama_classes", "qwen2", "qwen3"};
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected = open_golden(m, "decoders/expected");
    size_t i;
    for (i = 0; i < sizeof networks / sizeof networks[0]; ++i) test_golden(expected, networks[i]);
    test_files(expected);
    test_adapter(expected, "gpt2_lora", "gpt2");
    test_adapter(expected, "llama_lora", "llama_classes");
    test_meta(expected);
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_decoders");
}
