/* test_embed.c - vectors of texts. Pooling and normalisation give what PyTorch's hidden states give
   (goldens of tests/golden/make_encoders.py, pooled here by loops); they are read from the folders
   of sentence-transformers and kept in model files; a text has the same bits alone and in any batch. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "log.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, STEPS = 9, FEATURES = 16, WORDS = 30, TEXTS = 70 };

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

/* A tokeniser whose word number n is the letter 'a' + n, without [CLS] and [SEP]. */
static void give_tokenizer(ft_model *m)
{
    char text[1000];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"model\": {\"type\": \"WordPiece\", \"unk_token\":"
                                 " \"a\", \"vocab\": {");
    int n;
    for (n = 0; n < WORDS; ++n)
        at += (size_t)snprintf(text + at, sizeof text - at, n ? ", \"%c\": %d" : "\"%c\": %d", 'a' + n, n);
    at += (size_t)snprintf(text + at, sizeof text - at, "}}, \"normalizer\": {\"type\": \"BertNormalizer\"},"
                           " \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}}");
    ft_set_tokenizer(m, ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = text, .bytes = at}));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

static ft_model *load(const char *path, ft_load_options options)
{
    ft_model *m = ft_create((ft_desc){.log = collect, .threads = 2});
    log_text[0] = 0;
    ft_load(m, path, options);
    if (ft_error(m) == FT_OK && !ft_get_tokenizer(m)) give_tokenizer(m);
    return m;
}

/* The text of these words. */
static const char *words_of(const int32_t *ids, int count, char *to)
{
    int i;
    for (i = 0; i < count; ++i) {
        to[2 * i] = (char)('a' + ids[i]);
        to[2 * i + 1] = i + 1 < count ? ' ' : 0;
    }
    to[count ? 2 * count - 1 : 0] = 0;
    return to;
}

static void read_expected(ft_file *file, const char *name, void *to, size_t bytes)
{
    int index = ft_file_find(file, name);
    CHECK(index >= 0 && ft_file_tensor(file, index).bytes == bytes, "%s", name);
    ft_file_read(file, index, to, bytes);
}

/* Pools PyTorch's hidden states. */
static void pool(const float *hidden, const int32_t *lengths, ft_step_pooling kind, bool normalize, float *to)
{
    int n, t, j;
    for (n = 0; n < SAMPLES; ++n) {
        double sum = 0;
        for (j = 0; j < FEATURES; ++j) {
            const float *x = hidden + n * STEPS * FEATURES + j;
            double y = (double)x[0];
            for (t = 1; t < lengths[n]; ++t) {
                if (kind == FT_POOL_MEAN) y += (double)x[t * FEATURES];
                if (kind == FT_POOL_MAX && (double)x[t * FEATURES] > y) y = (double)x[t * FEATURES];
            }
            if (kind == FT_POOL_MEAN) y /= lengths[n];
            to[n * FEATURES + j] = (float)y;
            sum += y * y;
        }
        for (j = 0; normalize && j < FEATURES; ++j)
            to[n * FEATURES + j] = (float)((double)to[n * FEATURES + j] / sqrt(sum));
    }
}

static void test_golden(ft_file *expected)
{
    static const struct { const char *name; ft_step_pooling kind; } kinds[] = {
        {"mean", FT_POOL_MEAN}, {"max", FT_POOL_MAX}, {"cls", FT_POOL_FIRST}};
    static float hidden[SAMPLES * STEPS * FEATURES];
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES];
    float want[SAMPLES * FEATURES], got[SAMPLES * FEATURES];
    const char *texts[SAMPLES];
    char words[SAMPLES][2 * STEPS];
    int k, n;
    read_expected(expected, "bert_bare/hidden", hidden, sizeof hidden);
    read_expected(expected, "bert_bare/ids", ids, sizeof ids);
    read_expected(expected, "lengths", lengths, sizeof lengths);
    for (n = 0; n < SAMPLES; ++n) texts[n] = words_of(ids + n * STEPS, lengths[n], words[n]);
    for (k = 0; k < 6; ++k) {
        bool normalize = k % 2 != 0;
        ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){
            .network = {.pooling = kinds[k / 2].kind, .normalize = normalize}});
        CHECK(ft_node_shape(m, ft_text_vector(m)).size[1] == FEATURES, "features");
        CHECK(ft_embed_texts(m, texts, SAMPLES, got, SAMPLES * FEATURES, (ft_embed_options){0}) == SAMPLES,
              "%s: %s", kinds[k / 2].name, ft_error_text(m));
        pool(hidden, lengths, kinds[k / 2].kind, normalize, want);
        compare_golden(kinds[k / 2].name, got, want, SAMPLES * FEATURES, 1e-4);
        ft_destroy(m);
    }
    read_expected(expected, "bert_bare/mean", want, sizeof want);
    pool(hidden, lengths, FT_POOL_MEAN, false, got);
    compare_golden("the test's own mean", got, want, SAMPLES * FEATURES, 1e-5);
}

/* Texts of 0 to 11 words. */
static const char **texts_made(void)
{
    static char words[TEXTS][24];
    static const char *texts[TEXTS];
    int32_t ids[12];
    int n, k;
    for (n = 0; n < TEXTS; ++n) {
        for (k = 0; k < 12; ++k) ids[k] = (n * 7 + k * (5 + n % 3)) % 26;
        texts[n] = words_of(ids, n * 5 % 12, words[n]);
    }
    return texts;
}

/* Without a new head, which vectors do not need: nothing is said of it, and the vectors are the same. A head
   that the file has stays; classes get theirs later. */
static void test_no_new_head(void)
{
    static const char table[] = "text\tlabel\na b\tx\nc d\ty\na c\tx\nd d\ty\n", said[] = "tensors of the network are new";
    static float want[TEXTS * FEATURES], got[TEXTS * FEATURES];
    const char **texts = texts_made();
    int k;
    for (k = 0; k < 4; ++k) { /* with, without, without knowing the vector, and of a file that has one */
        ft_model *m = load(k < 3 ? "tests/golden/encoders/bert_bare" : "tests/golden/encoders/bert", (ft_load_options){
            .network.pooling = k == 2 ? FT_POOL_LAST : FT_POOL_MEAN, .no_new_head = k > 0});
        bool cut = ft_output(m).id && ft_output(m).id == ft_text_vector(m).id;
        CHECK(ft_error(m) == FT_OK && cut == (k == 1), "%d: %s", k, ft_error_text(m));
        CHECK((strstr(log_text, said) != NULL) == (k == 0 || k == 2), "%d: %s", k, log_text);
        CHECK(!strcmp(ft_architecture(m), "bert") && ft_class_count(m) == (k == 1 ? 0 : k == 3 ? 3 : 2), "%d: %d classes",
              k, ft_class_count(m));
        if (k < 2) ft_embed_texts(m, texts, TEXTS, k ? got : want, TEXTS * FEATURES, (ft_embed_options){0});
        if (k == 1) {
            ft_data *data = ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1});
            CHECK(memcmp(got, want, sizeof got) == 0, "other vectors");
            ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
            CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 2, "%d classes: %s", ft_class_count(m), ft_error_text(m));
        }
        ft_destroy(m);
    }
}

/* Alone, in batches of other sizes, by a share, and after a round trip through a file. */
static void test_bits(void)
{
    static const int sizes[] = {1, 2, 5, 100};
    static const char path[] = "build/test_embed.safetensors";
    static float want[TEXTS * FEATURES], got[TEXTS * FEATURES];
    const char **texts = texts_made();
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){
        .network = {.pooling = FT_POOL_MEAN, .normalize = true, .classes = 5}}), *other;
    size_t i;
    int n, length = ft_length(m);
    ft_embed_texts(m, texts, TEXTS, want, TEXTS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 5, "%s", ft_error_text(m));
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        memset(got, 0, sizeof got);
        ft_embed_texts(m, texts, TEXTS, got, TEXTS * FEATURES, (ft_embed_options){.batch_size = sizes[i]});
        CHECK(memcmp(got, want, sizeof got) == 0, "batches of %d have other bits", sizes[i]);
    }
    for (n = 0; n < TEXTS; ++n) {
        ft_embed_texts(m, texts + n, 1, got, FEATURES, (ft_embed_options){0});
        CHECK(memcmp(got, want + n * FEATURES, FEATURES * sizeof *got) == 0, "text %d has other bits alone", n);
        CHECK(n == 0 || memcmp(got, want, FEATURES * sizeof *got) != 0 || n % 12 == 0, "text %d is text 0", n);
    }
    CHECK(ft_length(m) == length && ft_error(m) == FT_OK, "%s", ft_error_text(m));
    other = ft_share(m, (ft_desc){0});
    ft_embed_texts(other, texts, TEXTS, got, TEXTS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(other) == FT_OK && memcmp(got, want, sizeof got) == 0, "a share: %s", ft_error_text(other));
    ft_destroy(other);
    ft_save(m, path, (ft_save_options){0});
    other = ft_create((ft_desc){0});
    ft_load(other, path, (ft_load_options){0});
    ft_embed_texts(other, texts, TEXTS, got, TEXTS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(other) == FT_OK && memcmp(got, want, sizeof got) == 0, "saved: %s", ft_error_text(other));
    ft_cut(other, ft_text_vector(other)); /* without the head: the same vectors */
    ft_embed_texts(other, texts, TEXTS, got, TEXTS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(other) == FT_OK && memcmp(got, want, sizeof got) == 0, "cut: %s", ft_error_text(other));
    ft_destroy(other);
    ft_destroy(m);
    remove(path);
}

/* What a folder of sentence-transformers says. */
static void test_folder(void)
{
    static const char folder[] = "build/embed_folder";
    static const char dense[] = "[{\"type\": \"sentence_transformers.models.Transformer\"}, {\"type\":"
        " \"sentence_transformers.models.Pooling\"}, {\"type\": \"sentence_transformers.models.Dense\"}]";
    static const char normal[] = "[{\"type\": \"sentence_transformers.models.Transformer\"}, {\"type\":"
        " \"sentence_transformers.models.Pooling\"}, {\"type\": \"sentence_transformers.models.Normalize\"}]";
    static const char *const text = "b c d";
    float got[FEATURES], plain[FEATURES];
    double sum = 0, product = 0, length = 0;
    int j;
    ft_model *m;
    mkdir(folder, 0777);
    mkdir("build/embed_folder/1_Pooling", 0777);
    remove("build/embed_folder/config_sentence_transformers.json");
    CHECK(system("cp tests/golden/encoders/bert_bare/* build/embed_folder") == 0, "cp");
    write_file("build/embed_folder/1_Pooling/config.json", "{\"pooling_mode_cls_token\": false,"
               " \"pooling_mode_mean_tokens\": true}");
    write_file("build/embed_folder/sentence_bert_config.json", "{\"max_seq_length\": 7}");
    write_file("build/embed_folder/modules.json", normal);
    m = load(folder, (ft_load_options){0});
    ft_embed_texts(m, &text, 1, got, FEATURES, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_OK && ft_max_length(m) == 7, "%d tokens: %s", ft_max_length(m), ft_error_text(m));
    ft_set_text_vector(m, ft_text_vector(m), (ft_text_vector_options){0});
    ft_embed_texts(m, &text, 1, plain, FEATURES, (ft_embed_options){0});
    for (j = 0; j < FEATURES; ++j) {
        sum += (double)got[j] * (double)got[j];
        product += (double)got[j] * (double)plain[j];
        length += (double)plain[j] * (double)plain[j];
    }
    CHECK(fabs(sum - 1) < 1e-6 && fabs(product * product / length - 1) < 1e-6 && fabs(length - 1) > 0.1,
          "not of length 1: %g, %g, %g", sum, product, length);
    ft_destroy(m);
    write_file("build/embed_folder/modules.json", dense);
    m = load(folder, (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && strstr(log_text, "Dense is not supported") && !ft_text_vector(m).id, "%s %s",
          ft_error_text(m), log_text);
    ft_embed_texts(m, &text, 1, got, FEATURES, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "pooling"), "%s", ft_error_text(m));
    ft_destroy(m);
    write_file("build/embed_folder/modules.json", normal);
    write_file("build/embed_folder/config_sentence_transformers.json", "{\"prompts\": {\"query\": \"query: \","
               " \"document\": \"\"}, \"default_prompt_name\": \"query\"}");
    m = load(folder, (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && strstr(log_text, "the prompt \"query: \" before each text") && !ft_text_vector(m).id,
          "%s %s", ft_error_text(m), log_text);
    ft_destroy(m);
    write_file("build/embed_folder/config_sentence_transformers.json", "{\"prompts\": {\"query\": \"\","
               " \"document\": \"\"}, \"default_prompt_name\": null}");
    m = load(folder, (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && ft_text_vector(m).id, "%s %s", ft_error_text(m), log_text);
    ft_destroy(m);
    m = load(folder, (ft_load_options){.network = {.pooling = FT_POOL_MAX}}); /* as the caller says */
    CHECK(ft_error(m) == FT_OK && ft_text_vector(m).id, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* The head of ...ForSequenceClassification reads the first token; the vector is the mean. */
static void test_other_head(ft_file *expected)
{
    ft_model *m = load("tests/golden/encoders/bert", (ft_load_options){0});
    ft_model *pooled = load("tests/golden/encoders/bert", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES];
    float logits[2][SAMPLES * 3], want[SAMPLES * 3];
    ft_model *models[2];
    int k;
    models[0] = m;
    models[1] = pooled;
    read_expected(expected, "bert/ids", ids, sizeof ids);
    read_expected(expected, "lengths", lengths, sizeof lengths);
    read_expected(expected, "bert/logits", want, sizeof want);
    for (k = 0; k < 2; ++k) {
        ft_set_length(models[k], STEPS);
        ft_run_lengths(models[k], ids, lengths, SAMPLES, logits[k], SAMPLES * 3);
        CHECK(ft_error(models[k]) == FT_OK, "%s", ft_error_text(models[k]));
    }
    compare_golden("logits", logits[1], want, SAMPLES * 3, 1e-4);
    CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0, "the vector changes the logits");
    CHECK(!ft_text_vector(m).id && !strcmp(ft_node_name(pooled, ft_text_vector(pooled)), "text_vector"), "vector");
    ft_destroy(pooled);
    ft_destroy(m);
}

static void test_errors(void)
{
    static const char *const texts[2] = {"b c", NULL};
    float got[2 * FEATURES];
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.normalize = true}});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "normalize"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    CHECK(ft_embed_texts(m, texts, 2, got, 2 * FEATURES, (ft_embed_options){0}) == 0
          && ft_error(m) == FT_INVALID, "a text that is NULL: %s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_embed_texts(m, texts, 1, got, FEATURES + 1, (ft_embed_options){0}) == 0
          && ft_error(m) == FT_SHAPE, "room: %s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_embed_texts(m, texts, 0, got, 0, (ft_embed_options){0}) == 0 && ft_error(m) == FT_INVALID, "0 texts");
    ft_clear_error(m);
    ft_set_text_vector(m, ft_find(m, "tokens"), (ft_text_vector_options){0});
    CHECK(ft_error(m) == FT_INVALID, "an input: %s", ft_error_text(m));
    ft_clear_error(m);
    ft_set_text_vector(m, ft_find(m, "encoder.layer.1.output.LayerNorm"), (ft_text_vector_options){0});
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "[N, features]"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_embed_texts(m, texts, 1, got, FEATURES, (ft_embed_options){0}) == 1, "%s", ft_error_text(m));
    ft_destroy(m);
    CHECK(ft_embed_texts(NULL, texts, 1, got, FEATURES, (ft_embed_options){0}) == 0, "no model");
}

/* A real network: the vectors that its authors' library gives for five sentences. */
static void test_minilm(void)
{
    static const char *const texts[] = {"The weather is lovely today.", "It's so sunny outside!",
        "He drove to the stadium.", "A man is eating food.", "A man is eating a piece of bread."};
    enum { SENTENCES = 5, WIDE = 384 };
    static float got[SENTENCES * WIDE];
    const char *data = getenv("FINETUNE_DATA");
    char path[400];
    FILE *file;
    ft_model *m;
    double near, far;
    int j;
    snprintf(path, sizeof path, "%s/weights/minilm_l3/model.safetensors", data ? data : "");
    file = fopen(path, "rb");
    if (!file) {
        SKIP("needs FINETUNE_DATA/weights/minilm_l3");
        return;
    }
    fclose(file);
    snprintf(path, sizeof path, "%s/weights/minilm_l3", data);
    m = load(path, (ft_load_options){.network = {.pooling = FT_POOL_MEAN, .normalize = true}});
    ft_embed_texts(m, texts, SENTENCES, got, SENTENCES * WIDE, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (near = far = 0, j = 0; j < WIDE; ++j) {
        near += (double)got[3 * WIDE + j] * (double)got[4 * WIDE + j];
        far += (double)got[j] * (double)got[4 * WIDE + j];
    }
    CHECK(near > 0.6 && far < 0.3, "cosines %g and %g", near, far);
    ft_destroy(m);
}

/* ---- Training by pairs: PyTorch's losses, gradient and vectors (tests/golden/make_pairs.py) ---- */
enum { PAIRS = 5 };
static struct { int32_t ids[2][PAIRS * STEPS], lengths[2][PAIRS]; float losses[10], gradient[16 * 24],
                after[2][PAIRS * FEATURES]; } pairs;

static void read_pairs(ft_file *file)
{
    read_expected(file, "a/ids", pairs.ids[0], sizeof pairs.ids[0]);
    read_expected(file, "b/ids", pairs.ids[1], sizeof pairs.ids[1]);
    read_expected(file, "a/lengths", pairs.lengths[0], sizeof pairs.lengths[0]);
    read_expected(file, "b/lengths", pairs.lengths[1], sizeof pairs.lengths[1]);
    read_expected(file, "losses", pairs.losses, sizeof pairs.losses);
    read_expected(file, "gradient", pairs.gradient, sizeof pairs.gradient);
    read_expected(file, "a/after", pairs.after[0], sizeof pairs.after[0]);
    read_expected(file, "b/after", pairs.after[1], sizeof pairs.after[1]);
}

static ft_model *load_pairs(void)
{
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    CHECK(ft_pair_loss(m, (ft_pair_loss_options){0}) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* After the training: the second copy is gone, and the vectors are PyTorch's. */
static void check_vectors(ft_model *m, const char *how)
{
    float got[PAIRS * FEATURES];
    int side;
    ft_cut(m, ft_text_vector(m));
    CHECK(!ft_find(m, "tokens_b").id && !ft_find(m, "pooled_b").id && !ft_find(m, "pair_a").id
          && !ft_find(m, "classifier").id && !ft_loss(m).id, "%s: something is left", how);
    ft_set_length(m, STEPS);
    for (side = 0; side < 2; ++side) {
        ft_run_lengths(m, pairs.ids[side], pairs.lengths[side], PAIRS, got, PAIRS * FEATURES);
        CHECK(ft_error(m) == FT_OK, "%s: %s", how, ft_error_text(m));
        compare_golden(how, got, pairs.after[side], PAIRS * FEATURES, 1e-3);
    }
}

static void test_pair_steps(void)
{
    static const char *const names[2][2] = {{"tokens", "lengths"}, {"tokens_b", "lengths_b"}};
    ft_model *m = load_pairs();
    float got[16 * 24];
    int step, side;
    ft_set_optimizer(m, (ft_optimizer_options){.weight_decay = 0.01f});
    ft_set_length(m, STEPS);
    for (step = 0; step < 10; ++step) {
        float loss;
        for (side = 0; side < 2; ++side) {
            ft_feed(m, ft_find(m, names[side][0]), pairs.ids[side], PAIRS);
            ft_feed(m, ft_find(m, names[side][1]), pairs.lengths[side], PAIRS);
        }
        loss = ft_forward(m, true);
        CHECK(CLOSE(loss, pairs.losses[step], 1e-3 * (double)pairs.losses[step]), "step %d: loss %g, PyTorch %g",
              step, (double)loss, (double)pairs.losses[step]);
        ft_backward(m);
        if (step == 0) {
            ft_get_gradient(m, ft_find(m, "encoder.layer.1.output.dense.weight"), got, 16 * 24);
            compare_golden("the first gradient", got, pairs.gradient, 16 * 24, 1e-4);
        }
        ft_update(m, 1e-3f);
    }
    check_vectors(m, "by hand");
    ft_destroy(m);
}

static bool get_pair(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    int s;
    (void)user;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        int side = strstr(slots[s].name, "_b") != NULL;
        if (!strncmp(slots[s].name, "lengths", 7)) memcpy(slots[s].values, &pairs.lengths[side][index], 4);
        if (strncmp(slots[s].name, "tokens", 6) != 0) continue;
        memcpy(slots[s].values, pairs.ids[side] + index * STEPS, (size_t)pairs.lengths[side][index] * 4);
        slots[s].length = pairs.lengths[side][index];
    }
    return true;
}

static int pair_length(void *user, int index)
{
    (void)user;
    return pairs.lengths[0][index] > pairs.lengths[1][index] ? pairs.lengths[0][index] : pairs.lengths[1][index];
}

/* The same through ft_fit, with a source of one's own: all pairs in one batch, in any order. */
static void test_pair_fit(void)
{
    ft_model *m = load_pairs();
    ft_data *data = ft_data_source(m, (ft_source){.count = PAIRS, .get = get_pair, .length = pair_length});
    ft_fit(m, data, (ft_fit_options){.epochs = 10, .optimizer = {.learning_rate = 1e-3f, .weight_decay = 0.01f}});
    CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).total == PAIRS, "%s", ft_error_text(m));
    check_vectors(m, "ft_fit");
    ft_destroy(m);
}

static void test_pair_errors(void)
{
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){0});
    int nodes = ft_node_count(m);
    CHECK(ft_pair_loss(m, (ft_pair_loss_options){0}) == FT_INVALID && strstr(ft_error_text(m), "pooling")
          && ft_node_count(m) == nodes, "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_set_text_vector(m, ft_find(m, "pooled"), (ft_text_vector_options){0});
    CHECK(ft_pair_loss(m, (ft_pair_loss_options){.scale = -1}) == FT_INVALID && strstr(ft_error_text(m), "scale"),
          "%s", ft_error_text(m));
    ft_destroy(m);
    CHECK(ft_pair_loss(NULL, (ft_pair_loss_options){0}) != FT_OK, "no model");
}

/* ---- Pairs from a table: measured, and learnt by the recipe ---- */
enum { ROWS = 24 };

/* Pairs of texts, and a number: how many of the second's words are the first's. */
static const char *table_made(void)
{
    static char table[4000];
    size_t at = (size_t)snprintf(table, sizeof table, "id\tfirst\tsecond\tscore\n");
    int n, k;
    for (n = 0; n < ROWS; ++n) {
        int same = n * 7 % 6;
        at += (size_t)snprintf(table + at, sizeof table - at, "%d\t", n);
        for (k = 0; k < 5; ++k)
            at += (size_t)snprintf(table + at, sizeof table - at, "%c%s", 'b' + (n * 3 + k * 5) % 25, k < 4 ? " " : "\t");
        for (k = 0; k < 5; ++k)
            at += (size_t)snprintf(table + at, sizeof table - at, "%c%s", 'b' + (n * 3 + k * 5 + (k < same ? 0 : 11)) % 25,
                                   k < 4 ? " " : "\t");
        at += (size_t)snprintf(table + at, sizeof table - at, "%d%s\n", same, n % 2 ? ".0" : "");
    }
    return table;
}

static ft_data *open_pairs(ft_model *m, const char *table, const char *texts, const char *score, float least)
{
    return ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = strlen(table), .text_column = texts,
        .label_column = score, .task = FT_TASK_EMBEDDINGS, .minimum_score = least,
        .header = *texts == '2' ? FT_HEADER_YES : FT_HEADER_AUTO});
}

static bool count_steps(void *user, const ft_progress *p)
{
    *(int *)user += !p->epoch_done;
    return true;
}

static double correlation(const double *a, const double *b)
{
    double sa = 0, sb = 0, ab = 0, aa = 0, bb = 0;
    int i;
    for (i = 0; i < ROWS; ++i) {
        sa += a[i];
        sb += b[i];
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return (ROWS * ab - sa * sb) / sqrt((ROWS * aa - sa * sa) * (ROWS * bb - sb * sb));
}

static void ranks(const double *x, double *to)
{
    int i, j;
    for (i = 0; i < ROWS; ++i)
        for (to[i] = 0.5, j = 0; j < ROWS; ++j) to[i] += x[j] < x[i] ? 1 : x[j] == x[i] ? 0.5 : 0;
}

/* Pearson and Spearman as naive loops over the vectors give them. */
static void correlations(ft_model *m, double *pearson, double *spearman)
{
    static float vectors[2][ROWS * FEATURES];
    const char *at = strchr(table_made(), '\n') + 1;
    double cosines[ROWS], scores[ROWS], of_cosines[ROWS], of_scores[ROWS];
    char words[2][ROWS][16];
    const char *texts[2][ROWS];
    int n, j, side;
    for (n = 0; n < ROWS; ++n) {
        CHECK(sscanf(at, "%*d\t%9[^\t]\t%9[^\t]\t%lf", words[0][n], words[1][n], &scores[n]) == 3, "row %d", n);
        at = strchr(at, '\n') + 1;
        for (side = 0; side < 2; ++side) texts[side][n] = words[side][n];
    }
    for (side = 0; side < 2; ++side)
        ft_embed_texts(m, texts[side], ROWS, vectors[side], ROWS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (n = 0; n < ROWS; ++n) {
        double ab = 0, aa = 0, bb = 0;
        for (j = 0; j < FEATURES; ++j) {
            double a = (double)vectors[0][n * FEATURES + j], b = (double)vectors[1][n * FEATURES + j];
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        cosines[n] = ab / sqrt(aa * bb);
    }
    ranks(cosines, of_cosines);
    ranks(scores, of_scores);
    *pearson = correlation(cosines, scores);
    *spearman = correlation(of_cosines, of_scores);
}

static void test_similarity(void)
{
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    ft_data *data = open_pairs(m, table_made(), "first,second", "score", 0);
    ft_evaluation e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 5});
    double pearson, spearman;
    CHECK(ft_data_count(data) == ROWS && ft_data_task(data) == FT_TASK_EMBEDDINGS && ft_data_classes(data) == 0,
          "%d pairs", ft_data_count(data));
    correlations(m, &pearson, &spearman);
    CHECK(e.similarity && e.total == ROWS && fabs(e.pearson - pearson) < 1e-6 && fabs(e.spearman - spearman) < 1e-9
          && fabs(pearson - spearman) > 1e-3, "pearson %g, not %g; spearman %g, not %g: %s", e.pearson, pearson,
          e.spearman, spearman, ft_error_text(m));
    ft_evaluate(m, open_pairs(m, table_made(), "first,second", NULL, 0), (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "no numbers"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* The recipe: the vectors of pairs that mean the same come nearer than those of others; also by adapters alone. */
static void test_recipe(void)
{
    int lora;
    for (lora = 0; lora < 2; ++lora) {
        ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
        ft_data *train = open_pairs(m, table_made(), "2,3", "4", 3), *scored = open_pairs(m, table_made(), "2,3", "4", 0);
        ft_evaluation before = ft_evaluate(m, scored, (ft_evaluate_options){0}), after, again;
        float *was = weight_of(m, ft_find(m, "encoder.layer.1.output.dense.weight")), *is;
        ft_finetune_result r;
        CHECK(ft_data_count(train) == ROWS / 2 && strstr(log_text, "12 of 24 pairs"), "%d pairs: %s",
              ft_data_count(train), log_text);
        if (lora) ft_lora(m, NULL, (ft_lora_options){.dropout = 0.1f});
        r = ft_finetune(m, train, (ft_finetune_options){.epochs = 20, .learning_rate = lora ? 1e-2f : 1e-3f});
        CHECK(ft_error(m) == FT_OK && strstr(r.choice, lora ? "the adapters" : "all layers")
              && strstr(r.choice, lora ? "; 20 epochs, learning rate 0.01" : "; 20 epochs, learning rate 0.001"),
              "%s: %s", r.choice,
              ft_error_text(m));
        CHECK((r.fit.after.tensors > 10) == (lora == 1) && r.fit.loss < 1.5, "%d frozen, loss %g",
              r.fit.after.tensors, r.fit.loss);
        CHECK(!ft_find(m, "tokens_b").id && !ft_find(m, "classifier").id, "something is left");
        is = weight_of(m, ft_find(m, "encoder.layer.1.output.dense.weight"));
        CHECK((memcmp(was, is, 16 * 24 * sizeof *is) == 0) == (lora == 1), "lora %d: the layer", lora);
        free(was);
        free(is);
        after = ft_evaluate(m, scored, (ft_evaluate_options){0});
        CHECK(after.spearman > before.spearman + 0.05, "lora %d: spearman %g, was %g", lora, after.spearman,
              before.spearman);
        ft_save(m, "build/test_embed.safetensors", (ft_save_options){0});
        ft_destroy(m);
        m = ft_create((ft_desc){0});
        ft_load(m, "build/test_embed.safetensors", (ft_load_options){0});
        again = ft_evaluate(m, open_pairs(m, table_made(), "2,3", "4", 0), (ft_evaluate_options){0});
        CHECK(ft_error(m) == FT_OK && again.spearman == after.spearman, "saved: %g, not %g: %s", again.spearman,
              after.spearman, ft_error_text(m));
        ft_destroy(m);
    }
}

/* In the loss of pairs without numbers no text is twice in a batch of 4: of 8 pairs with one first text, 7 are left out
   of an epoch; of two first texts, batches have 2 pairs; if each text is in two pairs, or if the pairs have numbers,
   they have 4. */
static void test_distinct_batches(void)
{
    static const struct { int texts; bool scored; int steps; const char *says; } rows[] = {
        {1, false, 1, "7 of 8 pairs do not fit into an epoch"}, {1, true, 2, NULL}, {4, false, 2, NULL},
        {2, false, 4, "batches of 2 pairs, not 4: a batch has each text once"}};
    size_t r;
    int i;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
        char table[400] = "x\ty\tz\n";
        ft_data *data;
        int steps = 0;
        for (i = 0; i < 8; ++i)
            snprintf(table + strlen(table), 30, "d %c\tf %c\t%d\n", 'b' + i % rows[r].texts, 'k' + i, i);
        data = open_pairs(m, table, "x,y", rows[r].scored ? "z" : NULL, 0);
        ft_finetune(m, data, (ft_finetune_options){.epochs = 1, .batch_size = 4, .progress = count_steps,
                                                   .progress_user = &steps});
        CHECK(ft_error(m) == FT_OK && steps == rows[r].steps, "row %d: %d steps: %s", (int)r, steps, ft_error_text(m));
        CHECK(rows[r].says ? strstr(log_text, rows[r].says) != NULL : !strstr(log_text, "do not fit"), "row %d: %s",
              (int)r, log_text);
        ft_destroy(m);
    }
}

/* The held-back batches likewise: of 7 pairs with one first text one is measured, whose loss alone is 0; next to
   another with the same text it would be log 2 at least. */
static void test_distinct_held_back(void)
{
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    char table[400] = "x\ty\n";
    ft_fit_result r;
    int i;
    for (i = 0; i < 14; ++i) snprintf(table + strlen(table), 20, "d b\tf %c\n", 'e' + i);
    ft_pair_loss(m, (ft_pair_loss_options){0});
    r = ft_fit(m, open_pairs(m, table, "x,y", NULL, 0), (ft_fit_options){.epochs = 2, .batch_size = 4, .hold_back = 0.5f});
    CHECK(ft_error(m) == FT_OK && r.held_back_loss >= 0 && r.held_back_loss < 1e-6, "%g: %s", r.held_back_loss,
          ft_error_text(m));
    CHECK(strstr(log_text, "6 of 7 held-back pairs are not measured") != NULL, "%s", log_text);
    ft_destroy(m);
}

static void test_pairs_refused(void)
{
    static const struct { const char *table, *texts, *score; float least; const char *error; } rows[] = {
        {"x\ty\tz\na\tb\t1\n", "x", NULL, 0, "name the columns of both texts"},
        {"x\ty\tz\na\tb\t1\nb\tc\tmuch\n", "x,y", "z", 0, "line 3: the label \"much\" is not a number"},
        {"x\ty\tz\na\tb\t1\nb\tc\t1e99\n", "x,y", "z", 0, "line 3: the label \"1e99\" is not a number"},
        {"x\ty\tz\na\tb\t1\n", "x,y", NULL, 3, "minimum_score has no effect"},
        {"x\ty\tz\na\tb\t1\n", "x,y", "z", 3, "has no pairs"}};
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    size_t r;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        CHECK(!open_pairs(m, rows[r].table, rows[r].texts, rows[r].score, rows[r].least)
              && strstr(ft_error_text(m), rows[r].error), "%s: %s", rows[r].error, ft_error_text(m));
        ft_clear_error(m);
    }
    CHECK(ft_pair_loss(m, (ft_pair_loss_options){.scored = true, .scale = 3}) == FT_INVALID
          && strstr(ft_error_text(m), "scale has no effect"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Pairs with numbers: the loss is the mean squared distance of cosine and number, which goes from 0 to 1; then the
   cosines follow the numbers, by the recipe too. */
static void test_scored(void)
{
    ft_model *m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    ft_data *data = open_pairs(m, table_made(), "first,second", "score", 0);
    ft_evaluation before = ft_evaluate(m, data, (ft_evaluate_options){0}), after;
    const char *at = strchr(table_made(), '\n') + 1;
    float vectors[2 * FEATURES];
    double want = 0, score;
    ft_finetune_result r;
    ft_fit_result first;
    int n, j;
    for (n = 0; n < ROWS; ++n) {
        char a[16], b[16];
        const char *texts[2];
        double ab = 0, aa = 0, bb = 0;
        CHECK(sscanf(at, "%*d\t%9[^\t]\t%9[^\t]\t%lf", a, b, &score) == 3, "row %d", n);
        at = strchr(at, '\n') + 1;
        texts[0] = a;
        texts[1] = b;
        ft_embed_texts(m, texts, 2, vectors, 2 * FEATURES, (ft_embed_options){0});
        for (j = 0; j < FEATURES; ++j) {
            ab += (double)vectors[j] * (double)vectors[FEATURES + j];
            aa += (double)vectors[j] * (double)vectors[j];
            bb += (double)vectors[FEATURES + j] * (double)vectors[FEATURES + j];
        }
        want += pow(ab / sqrt(aa * bb) - score / 5, 2) / ROWS; /* the numbers go from 0 to 5 */
    }
    CHECK(strstr(log_text, "24 pairs with numbers from 0 to 5") != NULL, "%s", log_text);
    ft_pair_loss(m, (ft_pair_loss_options){.scored = true});
    first = ft_fit(m, data, (ft_fit_options){.epochs = 1, .batch_size = ROWS, .optimizer = {.learning_rate = 1e-8f}});
    CHECK(ft_error(m) == FT_OK && CLOSE(first.loss, want, 1e-5 * want), "loss %g, not %g: %s", first.loss, want,
          ft_error_text(m));
    ft_destroy(m);
    m = load("tests/golden/encoders/bert_bare", (ft_load_options){.network = {.pooling = FT_POOL_MEAN}});
    data = open_pairs(m, table_made(), "first,second", "score", 0);
    r = ft_finetune(m, data, (ft_finetune_options){.epochs = 30, .learning_rate = 1e-3f});
    after = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && strstr(r.choice, "follow their numbers") && after.spearman > before.spearman + 0.05
          && after.spearman > 0.9, "%s: %g, then %g: %s", r.choice, before.spearman, after.spearman, ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected = open_golden(m, "encoders/expected"), *paired = open_golden(m, "pairs");
    read_pairs(paired);
    ft_file_close(paired);
    test_pair_steps();
    test_pair_fit();
    test_pair_errors();
    test_similarity();
    test_recipe();
    test_distinct_batches();
    test_distinct_held_back();
    test_pairs_refused();
    test_scored();
    test_golden(expected);
    test_other_head(expected);
    test_bits();
    test_no_new_head();
    test_folder();
    test_errors();
    test_minilm();
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_embed");
}
