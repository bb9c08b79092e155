/* test_decoders.c - GPT-2, Llama, Qwen2 and Qwen3 from Hugging Face's folders give its logits, its ten
   steps and its text (goldens made by tests/golden/make_decoders.py), so do PEFT's adapters, both ways;
   stories260K tells its story. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "networks.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, STEPS = 9, WORDS = 30, CLASSES = 3, MOST = SAMPLES * STEPS * WORDS };

static const char folder[] = "tests/golden/decoders";

static ft_model *load(const char *name, ft_load_options options)
{
    return load_from(folder, name, options);
}

/* The next tokens of a language model, or texts of some lengths for a classifier, padded by 1. */
static void feed(ft_model *m, ft_file *expected, bool labels)
{
    int32_t ids[SAMPLES * STEPS], next[SAMPLES * STEPS], lengths[SAMPLES];
    int i, classes = ft_class_count(m);
    golden_numbers(expected, "", "ids", ids, sizeof ids);
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    for (i = 0; i < SAMPLES * STEPS; ++i) next[i] = i % STEPS < STEPS - 1 ? ids[i + 1] : -100;
    for (i = 0; classes && i < SAMPLES * STEPS; ++i)
        if (i % STEPS >= lengths[i / STEPS]) ids[i] = 1;
    if (classes) golden_numbers(expected, "", "labels", next, sizeof next);
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
    size_t count = logits_of(m, expected, got);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(golden_numbers(expected, name, "logits", want, sizeof want) == count, "%s: logits", name);
    compare_golden(name, got, want, count, 1e-4);
    GOLDEN_STEPS(m, expected, name, feed(m, expected, true));
    logits_of(m, expected, after);
    golden_numbers(expected, name, "after", want, sizeof want);
    compare_golden(name, after, want, count, 1e-3);
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
    FILE *file;
    char path[64];
    snprintf(path, sizeof path, "build/decoder_%s.f32", name); /* for test_transformers.sh */
    file = fopen(path, "wb");
    CHECK(file && fwrite(after, sizeof *after, count, file) == count && fclose(file) == 0, "%s", path);
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
        compare_golden("in another type", got, want, count, tolerances[i]);
        ft_destroy(again);
        again = ft_create((ft_desc){0});
        ft_load(again, path, (ft_load_options){.weights = {.map = i != 1, .keep_types = true}});
        logits_of(again, expected, mapped);
        CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
        compare_golden("mapped", mapped, got, count, 1e-5);
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
    save_trained(m, path, trained, count);
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
    CHECK(ft_merge(again, (ft_merge_options){0}) > 0, "%s", ft_error_text(again));
    logits_of(again, expected, got);
    compare_golden("merged", got, trained, count, 1e-5);
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
    golden_numbers(expected, "llama_tied", "logits", want, sizeof want);
    compare_golden("meta", got, want, count, 1e-4);
    ft_destroy(m);
}

/* A language model becomes a classifier, when it is loaded or afterwards: the same network, which reads
   the last real step of each text, whatever stands behind it. */
static void test_classifiers(ft_file *expected, const char *name)
{
    float score[CLASSES * 16], got[3][SAMPLES * CLASSES];
    ft_model *m[2];
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES];
    int i, k;
    for (i = 0; i < CLASSES * 16; ++i) score[i] = 0.3f * (float)((i * 7 + 3) % 11 - 5);
    m[0] = load(name, (ft_load_options){.network = {.classes = CLASSES}});
    CHECK(strstr(log_text, "score.weight [3, 16]"), "%s", log_text);
    m[1] = load(name, (ft_load_options){0});
    CHECK(ft_class_count(m[1]) == 0, "%d classes", ft_class_count(m[1]));
    ft_language_model_to_classifier(m[1], CLASSES, (ft_language_model_to_classifier_options){0});
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    for (i = 0; i < 2; ++i) {
        CHECK(ft_error(m[i]) == FT_OK && !strcmp(ft_architecture(m[i]), name) && ft_class_count(m[i]) == CLASSES,
              "%s: %s", name, ft_error_text(m[i]));
        CHECK(!ft_find(m[i], "lm_head").id && !ft_find(m[i], "lm_head.weight").id, "%s: the old head", name);
        ft_set(m[i], ft_find(m[i], "score.weight"), score, CLASSES * 16);
        logits_of(m[i], expected, got[i]);
    }
    CHECK(memcmp(got[0], got[1], sizeof got[0]) == 0, "%s: loaded so, or made so", name);
    golden_numbers(expected, "", "ids", ids, sizeof ids);
    for (k = 0; k < SAMPLES; ++k) {
        ft_set_length(m[0], lengths[k]);
        ft_run(m[0], ids + k * STEPS, 1, got[2], CLASSES);
        CHECK(ft_error(m[0]) == FT_OK && memcmp(got[2], got[0] + k * CLASSES, CLASSES * sizeof(float)) == 0,
              "%s: text %d alone: %s", name, k, ft_error_text(m[0]));
    }
    ft_destroy(m[0]);
    ft_destroy(m[1]);
}

static void test_tied_head(void)
{
    ft_model *m = load("gpt2", (ft_load_options){0});
    CHECK(ft_replace_head(m, 3) == FT_INVALID && strstr(ft_error_text(m), "lm_head: its weight is the embedding's"),
          "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_node_shape(m, ft_find(m, "transformer.wte.weight")).size[0] == WORDS, "it was not changed");
    ft_destroy(m);
    m = load("llama", (ft_load_options){0});
    CHECK(ft_replace_head(m, 3) == FT_OK && ft_node_shape(m, ft_output(m)).size[2] == 3, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Fields of config.json that change the result are done or refused by name; so are options. */
static void test_refusals(void)
{
    static const struct { const char *folder, *config, *error; } rows[] = {
        {"qwen2", "\"use_sliding_window\": true", "use_sliding_window is another value; only false is supported"},
        {"qwen3", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]",
         "layer_types has sliding_attention; only full_attention is supported"},
        {"llama", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", "the rope_type is dynamic; it must be"},
        {"llama", "\"rope_parameters\": {\"rope_type\": \"yarn\"}", "the rope_type is yarn; it must be default"},
        {"llama", "\"rope_parameters\": {\"partial_rotary_factor\": 0.5}", "partial_rotary_factor is 0.5; only 1"},
        {"llama", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor is another value; only 1 is"},
        {"llama", "\"no_rope_layers\": [1, 0]", "no_rope_layers is another value; only null is supported"},
        {"llama", "\"hidden_act\": \"relu2\"", "hidden_act is relu2; it must be gelu"},
        {"llama", "\"num_key_value_heads\": 3", "numbers of heads divide each other"},
        {"gpt2", "\"scale_attn_by_inverse_layer_idx\": true", "scale_attn_by_inverse_layer_idx is another value"},
        {"gpt2", "\"tie_word_embeddings\": false", "tie_word_embeddings is another value; only true is supported"},
        {"gpt2", "\"n_head\": 0", "gpt2: the number of heads is needed"},
        {"qwen3", "\"head_dim\": 4", "another shape than in the network"}};
    char path[300], command[400];
    size_t i;
    FILE *file;
    ft_model *m = ft_create((ft_desc){0});
    mkdir("build/decoders", 0777);
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        snprintf(command, sizeof command, "cp %s/%s/model.safetensors build/decoders/", folder, rows[i].folder);
        CHECK(system(command) == 0, "%s", command);
        file = fopen("build/decoders/config.json", "wb");
        if (!file) exit(1);
        fprintf(file, "{\"model_type\": \"%s\"%s, %s}", rows[i].folder,
                strstr(rows[i].config, "heads") || strstr(rows[i].config, "n_head") ? ", \"num_attention_heads\": 4"
                : ", \"num_attention_heads\": 4, \"n_head\": 4", rows[i].config);
        fclose(file);
        ft_load(m, "build/decoders", (ft_load_options){0});
        CHECK(ft_error(m) != FT_OK && strstr(ft_error_text(m), rows[i].error), "%s: %s", rows[i].config,
              ft_error_text(m));
        CHECK(ft_node_count(m) == 0, "%s: half a network is left", rows[i].config);
        ft_clear_error(m);
    }
    ft_network(m, "gpt2", (ft_network_options){.heads = 4, .key_value_heads = 2});
    CHECK(strstr(ft_error_text(m), "key_value_heads has no effect here"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_network(m, "llama", (ft_network_options){.heads = 4, .rotary = {.heads = 2}});
    CHECK(strstr(ft_error_text(m), "rotary.heads has no effect here"), "%s", ft_error_text(m));
    ft_clear_error(m);
    snprintf(path, sizeof path, "%s/llama/model.safetensors", folder); /* without its config.json */
    ft_load(m, path, (ft_load_options){0});
    CHECK(strstr(ft_error_text(m), "llama: the number of heads is needed"), "%s", ft_error_text(m));
    ft_clear_error(m);
    snprintf(path, sizeof path, "%s/qwen3/model.safetensors", folder); /* whose norms show the heads */
    ft_load(m, path, (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && !strcmp(ft_architecture(m), "qwen3"), "%s", ft_error_text(m));
    CHECK(ft_find(m, "lm_head.weight").id != 0, "the last layer has its own weight in the file");
    ft_destroy(m);
}

enum { MANY = 5000, LONG = 16 };
typedef struct lines { int32_t ids[2 * LONG], next[2 * LONG]; double accuracy; int calls; } lines;

static bool get_line(void *user, int index, int view, ft_slot *slots, int count)
{
    const lines *l = (const lines *)user;
    int i;
    (void)view;
    for (i = 0; i < count; ++i) {
        memcpy(slots[i].values, (strcmp(slots[i].name, "tokens") ? l->next : l->ids) + index * LONG,
               LONG * sizeof(int32_t));
        slots[i].length = LONG;
    }
    return true;
}

static int line_length(void *user, int index)
{
    (void)user;
    (void)index;
    return LONG;
}

static bool watch(void *user, const ft_progress *p)
{
    lines *l = (lines *)user;
    l->accuracy = p->accuracy;
    l->calls += 1;
    return p->loss > 0;
}

/* With many words the loss makes its logits by itself. Losses and gradients are those of the logits, in
   training these are not kept: the memory shows it. */
static void test_many_words(bool untied)
{
    ft_model *m = ft_create((ft_desc){.seed = 5}), *plain = ft_create((ft_desc){.seed = 5});
    ft_network_options o = {.words = MANY, .hidden = 8, .layers = 1, .heads = 2, .feed_forward = 8, .untied = untied};
    ft_node logits, labels;
    static float values[2 * LONG * MANY], gradient[2][MANY * 8];
    static lines l;
    const char *weight = untied ? "lm_head.weight" : "embed_tokens.weight";
    ft_data *data;
    ft_fit_result result;
    double sum = 0;
    ft_evaluation e;
    int i, k;
    size_t saved;
    memset(&l, 0, sizeof l);
    ft_network(m, "llama", o);
    logits = ft_network(plain, "llama", o); /* the same network, with the loss of the kept logits */
    labels = ft_find(plain, "labels");
    ft_set_loss(plain, ft_cross_entropy(plain, "kept", logits, labels, (ft_loss_options){0}));
    for (i = 0; i < 2 * LONG; ++i) {
        l.ids[i] = (i * 1237 + 11) % MANY;
        l.next[i] = i == 5 ? -100 : (i * 733 + 3) % MANY;
    }
    for (k = 0; k < 2; ++k) {
        ft_model *one = k ? plain : m;
        float loss;
        ft_set_length(one, LONG);
        ft_feed(one, ft_find(one, "tokens"), l.ids, 2);
        ft_feed(one, ft_find(one, "labels"), l.next, 2);
        loss = ft_forward(one, true);
        ft_backward(one);
        ft_get_gradient(one, ft_find(one, weight), gradient[k], MANY * 8);
        CHECK(ft_error(one) == FT_OK && (k == 0 || CLOSE(loss, sum, 1e-5)), "%g, %g: %s", (double)loss, sum,
              ft_error_text(one));
        sum = (double)loss;
    }
    for (i = 0; i < MANY * 8; ++i)
        for (k = 0; k < 2; ++k) gradient[k][i] *= 100;
    compare_golden("gradients", gradient[0], gradient[1], MANY * 8, 1e-4);
    ft_set_length(m, 512); /* of 2,048 tokens: their logits and gradients take 82 MB */
    ft_set_length(plain, 512);
    saved = ft_plan(plain, 4, true).total - ft_plan(m, 4, true).total;
    CHECK(saved > 82000000 && saved < 164000000, "%zu bytes", saved);
    ft_set_length(m, LONG);
    ft_run(m, l.ids, 2, values, 2 * LONG * MANY);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_lora(m, "lm_head", (ft_lora_options){0}) == 0 && strstr(ft_error_text(m), "the loss reads this layer's"),
          "%s", ft_error_text(m));
    ft_clear_error(m);
    data = ft_data_source(m, (ft_source){.user = &l, .count = 2, .get = get_line, .length = line_length});
    result = ft_fit(m, data, (ft_fit_options){.epochs = 60, .batch_size = 2, .progress = watch, .progress_user = &l,
                                              .optimizer = {.learning_rate = 0.03f}});
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && l.calls == 120 && l.accuracy == -1 && result.accuracy == -1 && result.loss < 1,
          "%d, %g, %g, loss %g: %s", l.calls, l.accuracy, result.accuracy, result.loss, ft_error_text(m));
    CHECK(e.total == 31 && e.accuracy > 0.9 && e.loss < result.loss, "%d, %g, %g", e.total, e.accuracy, e.loss);
    ft_destroy(plain);
    ft_destroy(m);
}

/* ---- Generation ---- */

typedef struct heard { /* what ft_generate passed on, of each prompt */
    int32_t ids[8][400];
    int count[8];
    char text[8][4000];
    int stop_after;         /* tokens of prompt 0; 0: none */
} heard;

static bool hear(void *user, const ft_generated *token)
{
    heard *h = (heard *)user;
    int p = token->prompt;
    if (token->id >= 0) h->ids[p][h->count[p]++] = token->id;
    CHECK(strlen(token->text) == token->bytes, "%zu bytes", token->bytes);
    strcat(h->text[p], token->text);
    return !h->stop_after || p != 0 || h->count[0] < h->stop_after;
}

/* A character for each word: a letter's place in this list is its id. */
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcd";

static void give_letters(ft_model *m)
{
    char json[512] = "[";
    int i;
    for (i = 0; i < WORDS; ++i)
        snprintf(json + strlen(json), sizeof json - strlen(json), "%s\"%c\"", i ? ", " : "", letters[i]);
    strcat(json, "]");
    ft_set_tokenizer(m, ft_tokenizer_load(m, "letters.vocab.json", (ft_tokenizer_options){
                            .memory = json, .bytes = strlen(json)}));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* The logits of a last token that was run after the kept ones have the bits of a run of the whole text:
   of 3 tokens and 11 generated ones. */
static void check_bits(ft_model *m, const int32_t *prompt, const int32_t *more)
{
    float after[WORDS], whole[14 * WORDS];
    int32_t ids[14];
    ft_get(m, ft_output(m), after, WORDS);
    memcpy(ids, prompt, 3 * sizeof *ids);
    memcpy(ids + 3, more, 11 * sizeof *ids);
    ft_set_length(m, 14);
    ft_run(m, ids, 1, whole, 14 * WORDS);
    CHECK(ft_error(m) == FT_OK && memcmp(after, whole + 13 * WORDS, sizeof after) == 0, "%s", ft_error_text(m));
}

/* The text that model.generate of transformers appends to the first three tokens of each row, with
   the cache and without, together and alone, and with an adapter that changes nothing. */
static void test_greedy(ft_file *expected, const char *name)
{
    static heard h;
    ft_model *m = load(name, (ft_load_options){0});
    int32_t ids[SAMPLES * STEPS], want[SAMPLES * 12];
    char texts[SAMPLES][4] = {""};
    const char *prompts[SAMPLES];
    int i, t, how, count;
    give_letters(m);
    golden_numbers(expected, "", "ids", ids, sizeof ids);
    golden_numbers(expected, name, "greedy", want, sizeof want);
    for (i = 0; i < SAMPLES; ++i) {
        for (t = 0; t < 3; ++t) texts[i][t] = letters[ids[i * STEPS + t]];
        prompts[i] = texts[i];
    }
    for (how = 0; how < 4; ++how) {
        ft_generate_options o = {.length = 12, .greedy = true, .token = hear, .token_user = &h};
        memset(&h, 0, sizeof h);
        if (how == 3) ft_lora(m, NULL, (ft_lora_options){.rank = 2});
        o.no_cache = how == 1;
        if (how == 2) {
            o.prompt = prompts[2];
            count = ft_generate(m, o);
        } else {
            o.prompts = prompts;
            o.prompt_count = SAMPLES;
            count = ft_generate(m, o);
        }
        CHECK(ft_error(m) == FT_OK && count == (how == 2 ? 12 : 36), "%s: %d: %s", name, count,
              ft_error_text(m));
        if (how == 2) check_bits(m, ids + 2 * STEPS, h.ids[0]);
        for (i = how == 2 ? 2 : 0; i < SAMPLES; ++i)
            CHECK(memcmp(h.ids[how == 2 ? 0 : i], want + i * 12, 12 * sizeof *want) == 0,
                  "%s, %d: text %d: %s", name, how, i, h.text[i]);
    }
    ft_destroy(m);
}

/* Prompts of unequal lengths: each text is the one that it is alone, drawn or not, and without the
   cache; one that ends early changes no other; GPT-2's table of positions ends its texts. */
static void test_batches(const char *name)
{
    static heard h, alone, whole;
    static const char *const prompts[] = {"ABCDEFGHIJ", "", "Q", "cab", "KLMNOP"};
    ft_model *m = load(name, (ft_load_options){0});
    int i, how, most = !strcmp(name, "gpt2") ? 16 : 1000, total = 0, count;
    give_letters(m);
    for (how = 0; how < 3; ++how) {
        ft_generate_options o = {.prompts = prompts, .prompt_count = 5, .length = 40, .seed = 7,
                                 .temperature = 1.5f, .top_k = 12, .token = hear, .token_user = &h};
        memset(&h, 0, sizeof h);
        h.stop_after = how == 1 ? 2 : 0;
        o.no_cache = how == 2;
        log_text[0] = 0;
        count = ft_generate(m, o);
        for (i = total = 0; i < 5; ++i) total += h.count[i];
        CHECK(ft_error(m) == FT_OK && count == total, "%s: %d, %d: %s", name, count, total, ft_error_text(m));
        CHECK(!!strstr(log_text, "positions") == (most == 16), "%s: %s", name, log_text);
        for (i = 0; i < 5; ++i) {
            ft_generate_options one = {.prompt = prompts[i], .length = 40, .seed = 7 + (uint64_t)i,
                                       .temperature = 1.5f, .top_k = 12, .token = hear, .token_user = &alone};
            int fits = most - (int)strlen(prompts[i]) + (*prompts[i] ? 1 : 0), length = fits < 40 ? fits : 40;
            if (i == 0 && how == 1) length = 2;
            CHECK(h.count[i] == length, "%s: text %d has %d tokens, not %d", name, i, h.count[i], length);
            if (how > 0) continue;
            memset(&alone, 0, sizeof alone);
            ft_generate(m, one);
            CHECK(!strcmp(alone.text[0], h.text[i]), "%s: %s, alone %s", name, h.text[i], alone.text[0]);
        }
        if (how == 0) whole = h;
        for (i = 0; how > 0 && i < 5; ++i)
            CHECK(how == 1 && i == 0 ? !strncmp(whole.text[i], h.text[i], 2) : !strcmp(whole.text[i], h.text[i]),
                  "%s: %s, %s", name, whole.text[i], h.text[i]);
    }
    ft_destroy(m);
}

/* A prompt of more tokens than are run at once, and than attention has in one tile. */
static void test_long_prompt(void)
{
    enum { LETTERS = 600, MORE = 4 };
    static heard h[2];
    static float after[WORDS], whole[(LETTERS + MORE) * WORDS];
    char prompt[LETTERS + 1] = "";
    int32_t ids[LETTERS + MORE];
    ft_model *m = load("llama", (ft_load_options){0});
    int i, how;
    give_letters(m);
    for (i = 0; i < LETTERS; ++i) {
        ids[i] = (i * i + i / 7) % WORDS;
        prompt[i] = letters[ids[i]];
    }
    memset(h, 0, sizeof h);
    for (how = 1; how >= 0; --how)
        ft_generate(m, (ft_generate_options){.prompt = prompt, .length = MORE, .greedy = true, .no_cache = how == 1,
                                             .token = hear, .token_user = &h[how]});
    ft_get(m, ft_output(m), after, WORDS);
    memcpy(ids + LETTERS, h[0].ids[0], (MORE - 1) * sizeof *ids);
    ft_set_length(m, LETTERS + MORE - 1);
    ft_run(m, ids, 1, whole, (LETTERS + MORE - 1) * WORDS);
    CHECK(ft_error(m) == FT_OK && h[0].count[0] == MORE && !strcmp(h[0].text[0], h[1].text[0]), "%s, %s: %s",
          h[0].text[0], h[1].text[0], ft_error_text(m));
    CHECK(memcmp(after, whole + (LETTERS + MORE - 2) * WORDS, sizeof after) == 0, "the last logits");
    ft_destroy(m);
}

/* Without memory for any one block ft_generate says so, and leaves nothing behind. */
static void test_no_memory(void)
{
    static const char *const prompts[] = {"ABC", "D"};
    static heard h;
    memory_count memory;
    long fail, calls = 1;
    for (fail = 0; fail <= calls; ++fail) {
        ft_model *m;
        long before;
        memset(&memory, 0, sizeof memory);
        memset(&h, 0, sizeof h);
        m = ft_create((ft_desc){.allocator = counting(&memory), .threads = 1});
        ft_load(m, "tests/golden/decoders/llama", (ft_load_options){0});
        give_letters(m);
        before = memory.calls;
        if (fail) memory.fail_at = before + fail;
        ft_generate(m, (ft_generate_options){.prompts = prompts, .prompt_count = 2, .length = 6, .greedy = true,
                                             .token = hear, .token_user = &h});
        if (fail == 0) calls = memory.calls - before;
        CHECK(ft_error(m) == (fail ? FT_MEMORY : FT_OK), "block %ld of %ld: %s", fail, calls, ft_error_text(m));
        ft_clear_error(m);
        memory.fail_at = 0;
        ft_generate(m, (ft_generate_options){.prompts = prompts, .prompt_count = 2, .length = 6, .greedy = true});
        CHECK(ft_error(m) == FT_OK, "after block %ld: %s", fail, ft_error_text(m));
        ft_destroy(m);
        CHECK(memory.blocks == 0 && memory.bytes == 0, "block %ld: %ld are left", fail, memory.blocks);
    }
    CHECK(calls > 10, "%ld blocks", calls);
}

static bool hear_piece(void *user, const char *text, size_t bytes)
{
    strncat((char *)user, text, bytes);
    return true;
}

/* A text ends before the first stop string, of which nothing is passed on. */
static void test_stops(void)
{
    static heard h;
    ft_model *m = load("llama", (ft_load_options){0});
    char all[64] = "", part[64], stop[3][8];
    const char *stops[3];
    int i, n;
    give_letters(m);
    ft_generate(m, (ft_generate_options){.prompt = "AB", .length = 30, .seed = 3, .piece = hear_piece,
                                         .piece_user = all});
    CHECK(strlen(all) == 30, "%s", all);
    for (i = 0; i + 4 < 30; ++i) {
        size_t want;
        memset(stop, 0, sizeof stop);
        memcpy(stop[0], all + i, 4);
        memcpy(stop[1], all + i, 3); /* begins there too, and goes on otherwise */
        stop[1][3] = all[i + 3] == 'A' ? 'B' : 'A';
        strcpy(stop[2], "AAAAAAA");
        for (n = 0; n < 3; ++n) stops[n] = stop[n];
        want = (size_t)(strstr(all, stop[0]) - all);
        part[0] = 0;
        memset(&h, 0, sizeof h);
        n = ft_generate(m, (ft_generate_options){.prompt = "AB", .length = 30, .seed = 3, .piece = hear_piece,
                                                 .piece_user = part, .stops = stops, .stop_count = 3,
                                                 .token = hear, .token_user = &h});
        if (strstr(all, stop[1]) || strstr(all, stop[2])) continue;
        CHECK(strlen(part) == want && !strncmp(part, all, want) && !strcmp(part, h.text[0]) && n == (int)want + 4,
              "%s: %s of %s", stop[0], part, all);
    }
    CHECK(ft_generate(m, (ft_generate_options){.prompt = "A", .prompts = stops, .prompt_count = 1}) == 0
          && ft_error(m) == FT_INVALID, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_generate(m, (ft_generate_options){.stops = stops}) == 0 && ft_error(m) == FT_INVALID, "%s",
          ft_error_text(m));
    ft_clear_error(m);
    stop[0][0] = 0;
    CHECK(ft_generate(m, (ft_generate_options){.stops = stops, .stop_count = 3}) == 0
          && strstr(ft_error_text(m), "stop 0 is empty"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_generate(m, (ft_generate_options){.prompts = stops, .prompt_count = 3, .piece = hear_piece}) == 0
          && strstr(ft_error_text(m), "piece has no effect"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = load("gpt2", (ft_load_options){0});
    give_letters(m);
    CHECK(ft_generate(m, (ft_generate_options){.prompt = "ABCDEFGHIJKLMNOPQ"}) == 0
          && strstr(ft_error_text(m), "a prompt of 17 tokens, but the network has 16 positions"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* stories260K with its tokeniser; NULL where there is no data. */
static ft_model *open_stories(void)
{
    const char *data = getenv("FINETUNE_DATA");
    char path[512];
    ft_model *m = ft_create((ft_desc){.threads = 2, .log = collect});
    log_text[0] = 0;
    snprintf(path, sizeof path, "%s/weights/stories260K.safetensors", data ? data : "../shared/data");
    ft_load(m, path, (ft_load_options){0});
    if (ft_error(m) == FT_IO) {
        SKIP("no stories260K.safetensors");
        ft_destroy(m);
        return NULL;
    }
    snprintf(path, sizeof path, "%s/weights/tok512.bin", data ? data : "../shared/data");
    ft_set_tokenizer(m, ft_tokenizer_load(m, path, (ft_tokenizer_options){0}));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* llama2.c's network and its well-known story, with the cache and without. */
static void test_stories(void)
{
    static const int32_t want[] = {403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317,
                                   426, 338, 401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282, 295};
    static const char story[] = "Once upon a time, there was a little girl named Lily. She loved to play outside"
                                " in the park. One day, she saw a big, red ball.";
    static heard h, other;
    int how;
    ft_model *m = open_stories();
    if (!m) return;
    CHECK(!strcmp(ft_architecture(m), "meta_llama") && ft_max_length(m) == 512, "%s", ft_architecture(m));
    for (how = 0; how < 2; ++how) {
        memset(&h, 0, sizeof h);
        ft_generate(m, (ft_generate_options){.length = how ? 60 : 300, .greedy = true, .no_cache = how == 1,
                                             .token = hear, .token_user = &h});
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        CHECK(memcmp(h.ids[0], want, sizeof want) == 0, "%d: ids", how);
        CHECK(!strncmp(h.text[0], story, sizeof story - 1), "%d: %s", how, h.text[0]);
        if (how) CHECK(memcmp(h.ids[0], other.ids[0], 60 * sizeof *want) == 0, "with the cache and without");
        other = h;
    }
    memset(&h, 0, sizeof h); /* saved with its tokeniser, and a prompt */
    ft_save(m, "build/stories.safetensors", (ft_save_options){0});
    ft_destroy(m);
    m = ft_create((ft_desc){0});
    ft_load(m, "build/stories.safetensors", (ft_load_options){0});
    ft_generate(m, (ft_generate_options){.prompt = "Once upon a time, there was a", .length = 8, .greedy = true,
                                         .token = hear, .token_user = &h});
    CHECK(ft_error(m) == FT_OK && !strncmp(h.text[0], " little girl named", 18), "%s: %s", h.text[0],
          ft_error_text(m));
    ft_destroy(m);
    remove("build/stories.safetensors");
}

/* ---- 100 steps as a language model (goldens made by tests/golden/make_stories.py) ---- */

typedef struct lesson { double sum, losses[100]; int count; } lesson;

static bool learn(void *user, const ft_progress *p)
{
    lesson *l = (lesson *)user;
    double sum = p->loss * p->step;
    if (p->epoch_done || l->count == 100) return false;
    l->losses[l->count++] = sum - l->sum;
    l->sum = sum;
    return l->count < 100;
}

static void test_lessons(bool lora)
{
    static char text[40000];
    static lesson l;
    ft_model *m = open_stories(), *plain = ft_create((ft_desc){0});
    ft_file *expected = open_golden(plain, "stories");
    const char *data = getenv("FINETUNE_DATA");
    char path[512];
    float want[100], a[4 * 64];
    FILE *file;
    int i, k;
    memset(&l, 0, sizeof l);
    snprintf(path, sizeof path, "%s/text/tinyshakespeare.txt", data ? data : "../shared/data");
    file = m ? fopen(path, "rb") : NULL;
    if (file) {
        CHECK(fread(text, 1, sizeof text, file) == sizeof text && fclose(file) == 0, "%s", path);
        golden_numbers(expected, "", lora ? "lora_losses" : "losses", want, sizeof want);
        if (lora) CHECK(ft_lora(m, "*.wq,*.wv", (ft_lora_options){.rank = 4, .alpha = 8}) == 10, "%s",
                        ft_error_text(m));
        for (i = 0; lora && i < 5; ++i)
            for (k = 0; k < 2; ++k) {
                char name[64];
                snprintf(name, sizeof name, "%d.%s", i, k ? "wv" : "wq");
                golden_numbers(expected, "", name, a, sizeof a);
                snprintf(name, sizeof name, "layers.%d.attention.%s.lora_A.weight", i, k ? "wv" : "wq");
                ft_set(m, ft_find(m, name), a, 4 * 64);
            }
        ft_fit(m, ft_text_streams(m, NULL, (ft_stream_options){.streams = 4, .steps = 32, .memory = text,
                                                              .bytes = sizeof text}),
               (ft_fit_options){.epochs = 1, .batch_size = 4, .progress = learn, .progress_user = &l,
                                .optimizer = {.learning_rate = lora ? 3e-3f : 1e-3f, .weight_decay = 0.01f}});
        CHECK(ft_error(m) == FT_OK && l.count == 100, "%d steps: %s", l.count, ft_error_text(m));
        for (i = 0; i < l.count; ++i)
            CHECK(CLOSE(l.losses[i], want[i], 1e-3), "%s, step %d: loss %g, PyTorch %g", lora ? "LoRA" : "whole",
                  i, l.losses[i], (double)want[i]);
    } else if (m) SKIP("no tinyshakespeare.txt");
    ft_file_close(expected);
    ft_destroy(plain);
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
    for (i = 0; i < sizeof networks / sizeof networks[0]; ++i)
        if (!strstr(networks[i], "classes")) test_greedy(expected, networks[i]);
    test_classifiers(expected, "gpt2");
    test_classifiers(expected, "llama");
    test_tied_head();
    test_refusals();
    test_many_words(false);
    test_many_words(true);
    test_batches("gpt2");
    test_batches("llama");
    test_long_prompt();
    test_no_memory();
    test_stops();
    test_stories();
    test_lessons(false);
    test_lessons(true);
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_decoders");
}
