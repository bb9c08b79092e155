/* test_encoders.c - BERT, RoBERTa and DistilBERT from Hugging Face's folders give its logits and
   its ten steps (goldens made by tests/golden/make_encoders.py), so do PEFT's adapters, both ways;
   a real network gives the vectors of
   its authors, and a text the same bits alone and beside longer ones; damaged folders are refused. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "networks.h"
#include "public.h"
#include <signal.h>
#include <sys/stat.h>

enum { SAMPLES = 3, STEPS = 9, CLASSES = 3 };

static const char folder[] = "tests/golden/encoders";

static ft_model *load(const char *name, ft_load_options options)
{
    return load_from(folder, name, options);
}

static void feed(ft_model *m, ft_file *expected, const char *network, bool labels)
{
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES], wanted[SAMPLES];
    golden_numbers(expected, network, "ids", ids, sizeof ids);
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    golden_numbers(expected, "", "labels", wanted, sizeof wanted);
    ft_set_length(m, STEPS);
    ft_feed(m, ft_find(m, "tokens"), ids, SAMPLES);
    ft_feed(m, ft_find(m, "lengths"), lengths, SAMPLES);
    if (labels) ft_feed(m, ft_find(m, "labels"), wanted, SAMPLES);
}

/* Logits, ten steps of training, and a round trip through a file. */
static void test_golden(ft_file *expected, const char *network)
{
    ft_model *m = load(network, (ft_load_options){0}), *again;
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES], before[SAMPLES * CLASSES];
    char path[64];
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
    CHECK(ft_class_count(m) == CLASSES, "%s: %d classes", network, ft_class_count(m));
    feed(m, expected, network, false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, SAMPLES * CLASSES);
    golden_numbers(expected, network, "logits", want, sizeof want);
    compare_golden(network, got, want, SAMPLES * CLASSES, 1e-4);
    GOLDEN_STEPS(m, expected, network, feed(m, expected, network, true));
    feed(m, expected, network, false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), before, SAMPLES * CLASSES);
    golden_numbers(expected, network, "after", want, sizeof want);
    compare_golden(network, before, want, SAMPLES * CLASSES, 1e-3);
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
    snprintf(path, sizeof path, "build/%s.safetensors", network);
    ft_save(m, path, (ft_save_options){0});
    again = ft_create((ft_desc){0});
    ft_load(again, path, (ft_load_options){0});
    feed(again, expected, network, false);
    ft_forward(again, false);
    ft_get(again, ft_output(again), got, SAMPLES * CLASSES);
    CHECK(ft_error(again) == FT_OK && memcmp(got, before, sizeof got) == 0, "%s: saved, loaded: %s", network,
          ft_error_text(again));
    CHECK(ft_max_length(again) == 12, "%s: %d positions", network, ft_max_length(again));
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

/* ---- Adapters ---- */

static void logits_of(ft_model *m, ft_file *expected, const char *network, float *to)
{
    feed(m, expected, network, false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), to, SAMPLES * CLASSES);
}

/* PEFT's adapter: its logits and ten steps; then written, read beside a new base, and merged. */
static void test_adapter(ft_file *expected, const char *name, const char *base)
{
    ft_model *m = load(base, (ft_load_options){0}), *again;
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES], trained[SAMPLES * CLASSES];
    char path[300];
    int nodes = ft_node_count(m), i, frozen = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ft_load_adapter(m, path);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    CHECK(!strcmp(ft_architecture(m), base), "%s: architecture %s", name, ft_architecture(m));
    logits_of(m, expected, name, got);
    golden_numbers(expected, name, "logits", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-4);
    GOLDEN_STEPS(m, expected, name, feed(m, expected, name, true));
    logits_of(m, expected, name, trained);
    golden_numbers(expected, name, "after", want, sizeof want);
    compare_golden(name, trained, want, SAMPLES * CLASSES, 1e-3);
    snprintf(path, sizeof path, "build/adapter_%s", name);
    save_trained(m, path, trained, SAMPLES * CLASSES);
    again = load(base, (ft_load_options){0});
    ft_load_adapter(again, path);
    logits_of(again, expected, name, got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, trained, sizeof got) == 0, "%s, written and read: %s", name,
          ft_error_text(again));
    for (i = 1; i <= ft_node_count(again); ++i) {
        ft_node node = {i};
        bool same = ft_node_frozen(again, node) == ft_node_frozen(m, ft_find(m, ft_node_name(again, node)));
        if (is_parameter(again, node)) CHECK(same, "%s: frozen?", ft_node_name(again, node));
        frozen += is_parameter(again, node) && ft_node_frozen(again, node);
    }
    CHECK(frozen > 20, "%d are frozen", frozen);
    CHECK(ft_merge(again, (ft_merge_options){0}) > 0, "%s", ft_error_text(again));
    logits_of(again, expected, name, got);
    compare_golden("merged", got, trained, SAMPLES * CLASSES, 1e-5);
    CHECK(!ft_find(again, "bert.encoder.layer.0.attention.self.query.lora").id
          && !ft_find(again, "roberta.encoder.layer.0.attention.self.query.lora_A.weight").id, "is left");
    CHECK(ft_merge(again, (ft_merge_options){0}) == 0 && ft_error(again) == FT_OK, "there is nothing to merge");
    ft_save(again, "build/merged.safetensors", (ft_save_options){0});
    CHECK(ft_error(again) == FT_OK && ft_node_count(again) >= nodes, "%s", ft_error_text(again));
    ft_destroy(again);
    again = ft_create((ft_desc){0});
    ft_load(again, "build/merged.safetensors", (ft_load_options){0});
    logits_of(again, expected, name, trained);
    CHECK(ft_error(again) == FT_OK && memcmp(got, trained, sizeof got) == 0, "%s", ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* The task model's names have "bert." before them, those of a bare encoder have not: its adapters are
   written as the task model has them, and read again. */
static void test_bare_adapter(ft_file *expected)
{
    ft_model *m = load("bert_bare", (ft_load_options){.network = {.classes = CLASSES}});
    ft_model *again = load("bert_bare", (ft_load_options){0});
    ft_file *file;
    float b[16 * 8], trained[SAMPLES * CLASSES], got[SAMPLES * CLASSES];
    static const char *const classes[] = {"a", "\"b\"", "c"};
    int i;
    for (i = 0; i < 128; ++i) b[i] = (float)(i % 7) - 3;
    CHECK(ft_lora(m, "*query", (ft_lora_options){0}) == 2, "%s", ft_error_text(m));
    ft_set(m, ft_find(m, "encoder.layer.0.attention.self.query.lora_B.weight"), b, 128);
    ft_set_class_names(m, CLASSES, classes);
    mkdir("build/adapter", 0777);
    ft_save_adapter(m, "build/adapter", (ft_save_adapter_options){0});
    file = ft_file_open(m, "build/adapter/adapter_model.safetensors", (ft_weights_options){0});
    CHECK(ft_file_find(file, "base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight") >= 0
          && ft_file_find(file, "base_model.model.classifier.weight") >= 0 && ft_file_count(file) == 6,
          "%d tensors: %s", ft_file_count(file), ft_error_text(m));
    ft_file_close(file);
    logits_of(m, expected, "bert_bare", trained);
    ft_load_adapter(again, "build/adapter"); /* its head has 3 classes, that of the new one 2 */
    CHECK(ft_class_name(again, 1) && !strcmp(ft_class_name(again, 1), "\"b\""), "class names");
    logits_of(again, expected, "bert_bare", got);
    CHECK(ft_error(again) == FT_OK && memcmp(got, trained, sizeof got) == 0, "%s", ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* A new adapter changes nothing at first, and only it and the head are trained. */
static void test_new_adapter(ft_file *expected)
{
    ft_model *m = load("bert", (ft_load_options){0});
    float before[SAMPLES * CLASSES], after[SAMPLES * CLASSES], weight[16 * 16], later[16 * 16], a[4 * 16];
    static const char layer[] = "bert.encoder.layer.1.attention.self.key";
    char name[200];
    ft_digest digest;
    int step;
    logits_of(m, expected, "bert", before);
    CHECK(ft_lora(m, "*query,*key,*value", (ft_lora_options){.rank = 4, .dropout = 0.5f}) == 6, "%s",
          ft_error_text(m));
    CHECK(ft_lora(m, NULL, (ft_lora_options){.rank = 2}) == 7, "three others in each layer, and the pooler: %s",
          ft_error_text(m));
    logits_of(m, expected, "bert", after);
    CHECK(memcmp(before, after, sizeof after) == 0, "a new adapter changes the result");
    snprintf(name, sizeof name, "%s.weight", layer);
    ft_get(m, ft_find(m, name), weight, 256);
    digest = ft_frozen_digest(m);
    for (step = 0; step < 3; ++step) {
        feed(m, expected, "bert", true);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-2f);
    }
    CHECK(ft_get_gradient(m, ft_find(m, name), later, 256) == FT_INVALID, "the base has a gradient");
    ft_clear_error(m);
    ft_get(m, ft_find(m, name), later, 256);
    CHECK(memcmp(weight, later, sizeof later) == 0 && ft_frozen_digest(m).frozen == digest.frozen, "it moved");
    CHECK(ft_get(m, ft_find(m, "bert.encoder.layer.1.attention.self.key.lora_B.weight"), a, 64) == FT_OK
          && a[5] != 0, "B is not trained");
    logits_of(m, expected, "bert", after);
    CHECK(ft_error(m) == FT_OK && memcmp(before, after, sizeof after) != 0, "%s", ft_error_text(m));
    CHECK(ft_lora(m, NULL, (ft_lora_options){0}) == 0 && ft_error(m) == FT_INVALID, "each has one");
    ft_destroy(m);
}

/* Rows of words that were learnt are no place for a vocabulary that is built from other texts. */
static void test_vocabulary_refused(void)
{
    static const char table[] = "text\tlabel\na b\tx\nc d\ty\n";
    ft_model *m = load("bert", (ft_load_options){0});
    CHECK(!ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1})
          && ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "need the tokeniser that they were trained with"),
          "%s", ft_error_text(m));
    ft_destroy(m);
}

/* An adapter tells how texts are read: in pairs, and cut at as many tokens; then its base need not be told. */
static void test_adapter_use(void)
{
    static const char *const words[] = {"a b c d"};
    ft_model *m = load("bert", (ft_load_options){0}), *again = load("bert", (ft_load_options){0});
    ft_set_tokenizer(m, ft_tokenizer_build(m, FT_WORDS, words, 1, (ft_vocabulary_options){0}));
    ft_set_pairs(m, true);
    ft_set_max_length(m, 7);
    ft_lora(m, "*query", (ft_lora_options){0});
    mkdir("build/adapter", 0777);
    ft_save_adapter(m, "build/adapter", (ft_save_adapter_options){0});
    CHECK(ft_error(m) == FT_OK && !ft_pairs(again) && ft_max_length(again) == 12, "%s", ft_error_text(m));
    ft_load_adapter(again, "build/adapter");
    CHECK(ft_error(again) == FT_OK && ft_pairs(again) && ft_max_length(again) == 7, "%d tokens, %s: %s",
          ft_max_length(again), ft_pairs(again) ? "pairs" : "single texts", ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
}

/* DoRA's lengths start as those of the rows, so that nothing changes but by rounding. An embedding is
   adapted where its name is given. */
static void test_new_dora(ft_file *expected)
{
    ft_model *m = load("bert", (ft_load_options){0});
    float before[SAMPLES * CLASSES], after[SAMPLES * CLASSES], weight[16][16], lengths[16];
    static const char query[] = "bert.encoder.layer.0.attention.self.query";
    char name[200];
    int i, k;
    logits_of(m, expected, "bert", before);
    CHECK(ft_lora(m, "*query,*output.dense", (ft_lora_options){.rank = 2, .dora = true}) == 6, "%s",
          ft_error_text(m));
    logits_of(m, expected, "bert", after);
    compare_golden("new DoRA", after, before, SAMPLES * CLASSES, 1e-5);
    snprintf(name, sizeof name, "%s.weight", query);
    ft_get(m, ft_find(m, name), &weight[0][0], 256);
    snprintf(name, sizeof name, "%s.lora_magnitude_vector", query);
    ft_get(m, ft_find(m, name), lengths, 16);
    for (i = 0; i < 16; ++i) {
        double sum = 0;
        for (k = 0; k < 16; ++k) sum += (double)weight[i][k] * (double)weight[i][k];
        CHECK(CLOSE(lengths[i], sqrt(sum), 1e-6), "row %d: %g, not %g", i, (double)lengths[i], sqrt(sum));
    }
    CHECK(!ft_node_frozen(m, ft_find(m, name)), "%s is frozen", name);
    CHECK(ft_lora(m, "*word_embeddings", (ft_lora_options){.rank = 2}) == 1, "%s", ft_error_text(m));
    mkdir("build/adapter", 0777);
    ft_save_adapter(m, "build/adapter", (ft_save_adapter_options){0});
    CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), "6 layers have DoRA and 1 plain LoRA"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

static float wave(int i) { return (float)sin(1.7 * i); }

/* DoRA with dropout by PEFT's formula (DoraLinearVariant and DoraLinearLayer.forward), with the mask that was drawn:
   W x + b + (g - 1) W drop(x) + g s B A drop(x), g = m / |W + s B A|; in evaluation drop(x) is x. */
static void test_dora_dropout(void)
{
    enum { N = 3, IN = 6, OUT = 4, RANK = 2 };
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 2});
    ft_node x = ft_linear(m, "first", add_input(m, "x", FT_F32, IN, 0, 0), IN, (ft_linear_options){0}), drop;
    ft_node y = ft_linear(m, "fc", x, OUT, (ft_linear_options){0}); /* behind a layer that is trained, too */
    float in[N * IN], dropped[N * IN], w[OUT][IN], b[OUT], down[RANK][IN], up[OUT][RANK], length[OUT], got[N * OUT];
    int training, i, j, k, n, zeros;
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, add_input(m, "target", FT_F32, OUT, 0, 0)));
    CHECK(ft_lora(m, "first,fc", (ft_lora_options){.rank = RANK, .alpha = 3, .dora = true, .dropout = 0.4f}) == 2, "%s",
          ft_error_text(m));
    for (i = 0; i < OUT; ++i) {
        b[i] = wave(100 + i);
        length[i] = 1 + 0.3f * wave(130 + i);
        for (k = 0; k < IN; ++k) w[i][k] = wave(200 + i * IN + k);
        for (j = 0; j < RANK; ++j) up[i][j] = wave(300 + i * RANK + j);
    }
    for (j = 0; j < RANK; ++j)
        for (k = 0; k < IN; ++k) down[j][k] = wave(400 + j * IN + k);
    ft_set(m, ft_find(m, "fc.weight"), &w[0][0], OUT * IN);
    ft_set(m, ft_find(m, "fc.bias"), b, OUT);
    ft_set(m, ft_find(m, "fc.lora_A.weight"), &down[0][0], RANK * IN);
    ft_set(m, ft_find(m, "fc.lora_B.weight"), &up[0][0], OUT * RANK);
    ft_set(m, ft_find(m, "fc.lora_magnitude_vector"), length, OUT);
    drop = ft_find(m, "fc.lora_dropout");
    ft_keep(m, drop);
    ft_keep(m, ft_find(m, "first.lora_dora"));
    for (training = 1; training >= 0; --training) {
        memset(got, 0, sizeof got);
        for (i = 0; i < N * IN; ++i) in[i] = wave(i + 1);
        ft_feed(m, ft_find(m, "x"), in, N);
        ft_feed(m, ft_find(m, "target"), got, N);
        ft_forward(m, training != 0);
        ft_get(m, ft_find(m, "first.lora_dora"), in, N * IN);
        ft_get(m, drop, dropped, N * IN);
        ft_get(m, ft_output(m), got, N * OUT);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        for (zeros = i = 0; i < N * IN; ++i) zeros += dropped[i] == 0;
        for (n = 0; n < N * OUT; ++n) {
            const float *row = in + n / OUT * IN, *left = dropped + n / OUT * IN;
            double plain = 0, again = 0, beside = 0, squares = 0, s = 3.0 / RANK, g;
            i = n % OUT;
            for (k = 0; k < IN; ++k) {
                double ba = 0;
                for (j = 0; j < RANK; ++j) ba += (double)up[i][j] * (double)down[j][k];
                plain += (double)w[i][k] * (double)row[k];
                again += (double)w[i][k] * (double)left[k];
                beside += ba * (double)left[k];
                squares += ((double)w[i][k] + s * ba) * ((double)w[i][k] + s * ba);
            }
            g = (double)length[i] / sqrt(squares);
            CHECK(CLOSE(got[n], plain + (double)b[i] + (g - 1) * again + g * s * beside, 1e-5), "training %d, %d: %g",
                  training, n, (double)got[n]);
        }
        CHECK(training ? zeros > 2 && zeros < N * IN : !memcmp(in, dropped, sizeof in), "%d zeros", zeros);
    }
    CHECK(ft_lora(m, NULL, (ft_lora_options){0}) == 0, "the second product of W gets no adapter");
    ft_clear_error(m);
    CHECK(ft_merge(m, (ft_merge_options){0}) == 2 && !ft_find(m, "fc.lora_again").id, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* An adapter of the first layer, before which nothing is trained: its dropout is active, as PEFT's is. Of one sample the
   gradient of A, (s B)' dy drop(x)', is 0 in the columns that were dropped and in no other. */
static void test_first_dropout(void)
{
    enum { IN = 64, OUT = 3, RANK = 2, ROUNDS = 50 };
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 5});
    ft_node y = ft_linear(m, "fc", add_input(m, "x", FT_F32, IN, 0, 0), OUT, (ft_linear_options){0}), a;
    float in[IN], want[OUT] = {3, -2, 1}, up[OUT][RANK], seen[IN], before[IN] = {0}, gradient[RANK][IN];
    int step, j, k, dropped = 0, changed = 0;
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, add_input(m, "target", FT_F32, OUT, 0, 0)));
    ft_lora(m, "fc", (ft_lora_options){.rank = RANK, .dropout = 0.4f});
    a = ft_find(m, "fc.lora_A.weight");
    for (k = 0; k < OUT * RANK; ++k) up[k / RANK][k % RANK] = 1 + wave(k) / 2;
    for (k = 0; k < IN; ++k) in[k] = 2 + wave(k);
    ft_set(m, ft_find(m, "fc.lora_B.weight"), &up[0][0], OUT * RANK);
    ft_keep(m, ft_find(m, "fc.lora_dropout"));
    for (step = 0; step < ROUNDS; ++step) {
        ft_feed(m, ft_find(m, "x"), in, 1);
        ft_feed(m, ft_find(m, "target"), want, 1);
        ft_forward(m, true);
        ft_get(m, ft_find(m, "fc.lora_dropout"), seen, IN);
        ft_backward(m);
        ft_get_gradient(m, a, &gradient[0][0], RANK * IN);
        ft_update(m, 0.01f);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        for (k = 0; k < IN; ++k) {
            bool off = seen[k] == 0;
            dropped += off;
            changed += step > 0 && off != (before[k] == 0);
            CHECK(off || CLOSE(seen[k], in[k] / 0.6f, 1e-5), "step %d: %g of %g", step, (double)seen[k], (double)in[k]);
            for (j = 0; j < RANK; ++j) CHECK((gradient[j][k] == 0) == off, "step %d: %g", step, (double)gradient[j][k]);
        }
        memcpy(before, seen, sizeof before);
    }
    CHECK(fabs(dropped / (double)(ROUNDS * IN) - 0.4) < 0.035, "%d of %d dropped", dropped, ROUNDS * IN); /* 4 sigma */
    CHECK(fabs(changed / (double)((ROUNDS - 1) * IN) - 2 * 0.4 * 0.6) < 0.036, "%d of them changed", changed);
    ft_run(m, in, 1, want, OUT);
    ft_get(m, ft_find(m, "fc.lora_dropout"), seen, IN);
    CHECK(!memcmp(seen, in, sizeof in), "active in evaluation");
    ft_destroy(m);
}

/* ---- Adapters of convolutions and embeddings, as PEFT has them (make_adapters.py) ---- */

/* Network of make_adapters.py, with its weights. */
static ft_model *mixed_network(ft_allocator allocator)
{
    ft_model *m = ft_create((ft_desc){.threads = 1, .allocator = allocator});
    ft_node x = add_input(m, "pictures", FT_F32, 3, 7, 7), ids = add_input(m, "ids", FT_I32, 0, 0, 0);
    ft_node labels = add_input(m, "labels", FT_I32, 0, 0, 0), words;
    x = ft_conv2d(m, "conv", x, 6, (ft_conv2d_options){.kernel = {3, 2}, .stride = {2}, .padding = {1, 1, 1, 1}});
    x = ft_conv2d(m, "point", ft_activation(m, "relu", NULL, x, (ft_activation_options){0}), 4,
                  (ft_conv2d_options){.kernel = {1}, .no_bias = true});
    x = ft_linear(m, "fc", ft_flatten(m, NULL, x), 5, (ft_linear_options){0});
    words = ft_embedding(m, "words", ids, 11, 5, (ft_embedding_options){0});
    x = ft_activation(m, "relu", NULL, ft_add(m, NULL, x, words), (ft_activation_options){0});
    x = ft_linear(m, "head", x, CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    ft_load_weights(m, "tests/golden/adapters/base.safetensors", (ft_weights_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static void feed_mixed(ft_model *m, ft_file *expected)
{
    float pictures[SAMPLES * 3 * 7 * 7];
    int32_t ids[SAMPLES], labels[SAMPLES];
    golden_numbers(expected, "", "pictures", pictures, sizeof pictures);
    golden_numbers(expected, "", "ids", ids, sizeof ids);
    golden_numbers(expected, "", "labels", labels, sizeof labels);
    ft_feed(m, ft_find(m, "pictures"), pictures, SAMPLES);
    ft_feed(m, ft_find(m, "ids"), ids, SAMPLES);
    ft_feed(m, ft_find(m, "labels"), labels, SAMPLES);
}

static void mixed_logits(ft_model *m, ft_file *expected, float *to)
{
    feed_mixed(m, expected);
    ft_forward(m, false);
    ft_get(m, ft_output(m), to, SAMPLES * CLASSES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* A hash of each weight's name, bytes and whether it is frozen, in any order of them. */
static uint64_t weights_and_frozen(ft_model *m)
{
    uint64_t sum = 0;
    int i;
    for (i = 1; i <= ft_node_count(m); ++i) {
        ft_node node = {i};
        uint64_t hash;
        if (!is_weight(m, node)) continue;
        hash = hash_bytes(1, ft_node_name(m, node), strlen(ft_node_name(m, node)));
        hash = hash_weight(hash, m, node);
        sum += ft_node_frozen(m, node) ? 3 * hash : hash;
    }
    return sum;
}

/* PEFT's logits and ten steps; written and read again: the same bits; merged: the same logits; unmerged:
   the same bytes. */
static void test_mixed(const char *name, int layers)
{
    ft_model *m = mixed_network((ft_allocator){0}), *again = mixed_network((ft_allocator){0});
    ft_file *expected = open_golden(m, "adapters/expected");
    float got[SAMPLES * CLASSES], want[SAMPLES * CLASSES], trained[SAMPLES * CLASSES];
    char path[300];
    uint64_t was;
    int i;
    snprintf(path, sizeof path, "tests/golden/adapters/%s", name);
    CHECK(ft_load_adapter(m, path) == FT_OK, "%s: %s", name, ft_error_text(m));
    mixed_logits(m, expected, got);
    golden_numbers(expected, name, "logits", want, sizeof want);
    compare_golden(name, got, want, SAMPLES * CLASSES, 1e-5);
    GOLDEN_STEPS(m, expected, name, feed_mixed(m, expected));
    mixed_logits(m, expected, trained);
    golden_numbers(expected, name, "after", want, sizeof want);
    compare_golden(name, trained, want, SAMPLES * CLASSES, 1e-4);
    snprintf(path, sizeof path, "build/adapter_%s_mixed", name);
    save_trained(m, path, trained, SAMPLES * CLASSES);
    CHECK(ft_load_adapter(again, path) == FT_OK, "%s: %s", name, ft_error_text(again));
    mixed_logits(again, expected, got);
    CHECK(memcmp(got, trained, sizeof got) == 0, "%s: written and read", name);
    for (i = 0; i < 3; ++i) { /* taken out again, and merged for good */
        was = weights_and_frozen(again);
        CHECK(ft_merge(again, (ft_merge_options){.keep = i < 2}) == layers, "%s: %s", name, ft_error_text(again));
        CHECK(!ft_find(again, "conv.lora_A.weight").id, "%s: it is left", name);
        mixed_logits(again, expected, got);
        compare_golden("merged", got, trained, SAMPLES * CLASSES, 1e-5);
        if (i == 2) break;
        CHECK(weights_and_frozen(again) != was, "%s: merged, and the same bytes", name);
        CHECK(ft_unmerge(again) == layers, "%s: %s", name, ft_error_text(again));
        CHECK(weights_and_frozen(again) == was, "%s: unmerged, and other bytes", name);
        mixed_logits(again, expected, got);
        CHECK(memcmp(got, trained, sizeof got) == 0, "%s: unmerged", name);
    }
    CHECK(ft_unmerge(again) == 0 && strstr(ft_error_text(again), "nothing was kept"), "%s", ft_error_text(again));
    ft_file_close(expected);
    ft_destroy(again);
    ft_destroy(m);
}

/* The loss after a step of training. */
static float loss_of(ft_model *m, ft_file *expected)
{
    int step;
    float loss = 0;
    for (step = 0; step < 2; ++step) {
        feed(m, expected, "bert", true);
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-2f);
    }
    return loss;
}

/* Weights of each type get their bytes back, and the adapter its settings: a training run has the same
   loss. */
static void test_unmerge(ft_file *expected)
{
    static const ft_type types[] = {FT_F32, FT_BF16, FT_I8};
    static const char a[] = "bert.encoder.layer.1.attention.self.query.lora_A.weight";
    size_t i;
    for (i = 0; i < 3; ++i) {
        ft_model *m = load("bert", (ft_load_options){0}), *same = load("bert", (ft_load_options){0}), *both[2] = {m, same};
        float b[16 * 3], loss;
        uint64_t was;
        int k;
        for (k = 0; k < 48; ++k) b[k] = (float)(k * 5 % 7) / 7 - 0.4f;
        for (k = 0; k < 2; ++k) {
            ft_lora(both[k], "*query,*key", (ft_lora_options){.rank = 3, .alpha = 5});
            ft_set(both[k], ft_find(both[k], "bert.encoder.layer.1.attention.self.query.lora_B.weight"), b, 48);
            ft_freeze(both[k], "*layer.0*key.lora_A.weight");
            ft_scale_learning_rate(both[k], a, 3);
            ft_set_type(both[k], "*.self.query.weight,*.self.key.weight", types[i]);
        }
        was = ft_frozen_digest(m).frozen;
        CHECK(ft_merge(m, (ft_merge_options){.keep = true}) == 4, "%s", ft_error_text(m));
        CHECK(ft_frozen_digest(m).frozen != was, "merged, and the same bytes");
        CHECK(ft_unmerge(m) == 4, "%s", ft_error_text(m));
        CHECK(ft_frozen_digest(m).frozen == was && ft_frozen_digest(same).frozen == was, "type %d: other bytes", (int)types[i]);
        loss = loss_of(m, expected);
        CHECK(ft_error(m) == FT_OK && loss == loss_of(same, expected), "type %d: another loss: %s", (int)types[i],
              ft_error_text(m));
        ft_destroy(same);
        ft_destroy(m);
    }
}

/* If any allocation fails, each layer has its adapter or is merged: the logits are the same. */
static void test_unmerge_memory(void)
{
    memory_count memory;
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected = open_golden(m, "adapters/expected");
    float want[SAMPLES * CLASSES], got[SAMPLES * CLASSES];
    bool failed = true;
    long n;
    golden_numbers(expected, "dora", "logits", want, sizeof want);
    for (n = 1; failed; ++n) {
        ft_model *one;
        memset(&memory, 0, sizeof memory);
        one = mixed_network(counting(&memory));
        ft_load_adapter(one, "tests/golden/adapters/dora");
        memory.fail_at = memory.calls + n;
        failed = ft_merge(one, (ft_merge_options){.keep = true}) == 0 || ft_unmerge(one) == 0;
        CHECK(failed == (ft_error(one) == FT_MEMORY), "allocation %ld: %s", n, ft_error_text(one));
        memory.fail_at = 0;
        ft_clear_error(one);
        mixed_logits(one, expected, got);
        compare_golden("without memory", got, want, SAMPLES * CLASSES, 1e-5);
        ft_destroy(one);
        CHECK(memory.blocks == 0, "allocation %ld: %ld blocks are left", n, memory.blocks);
    }
    CHECK(n > 100, "%ld allocations", n);
    ft_file_close(expected);
    ft_destroy(m);
}

/* What cannot be merged or unmerged is refused, and nothing is changed. */
static void test_unmerge_refused(void)
{
    ft_model *m = load("bert", (ft_load_options){0}), *tied = ft_create((ft_desc){0});
    ft_node x, table;
    ft_lora(m, "*query", (ft_lora_options){.dropout = 0.3f});
    ft_freeze(m, "*layer.0*lora_dropout");
    ft_merge(m, (ft_merge_options){.keep = true});
    ft_lora(m, "*layer.1*query", (ft_lora_options){0});
    CHECK(ft_unmerge(m) == 0 && strstr(ft_error_text(m), "layer.1.attention.self.query has another adapter now"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_merge(m, (ft_merge_options){0}) == 1 && ft_unmerge(m) == 2, "%s", ft_error_text(m));
    CHECK(ft_node_frozen(m, ft_find(m, "bert.encoder.layer.0.attention.self.query.lora_dropout"))
          && !ft_node_frozen(m, ft_find(m, "bert.encoder.layer.1.attention.self.query.lora_dropout")), "dropout");
    ft_merge(m, (ft_merge_options){.keep = true});
    ft_cut(m, ft_find(m, "bert.encoder.layer.0.output.LayerNorm"));
    CHECK(ft_unmerge(m) == 0 && strstr(ft_error_text(m), "layer.1.attention.self.query is no longer"), "%s",
          ft_error_text(m));
    ft_destroy(m); /* with what is kept */
    x = add_input(tied, "x", FT_I32, 0, 0, 0);
    table = ft_parameter(tied, "table", (ft_parameter_options){.size = {5, 4}});
    x = ft_embedding(tied, "words", x, 5, 4, (ft_embedding_options){.weight = table});
    ft_set_output(tied, ft_linear(tied, "decoder", x, 5, (ft_linear_options){.weight = table, .no_bias = true}));
    CHECK(ft_lora(tied, "words", (ft_lora_options){0}) == 1, "%s", ft_error_text(tied));
    CHECK(ft_merge(tied, (ft_merge_options){0}) == 0 && ft_error(tied) == FT_UNSUPPORTED
          && strstr(ft_error_text(tied), "decoder reads the weight of words too"), "%s", ft_error_text(tied));
    ft_clear_error(tied);
    ft_cut(tied, ft_find(tied, "words.lora"));
    CHECK(ft_merge(tied, (ft_merge_options){0}) == 1, "%s", ft_error_text(tied));
    ft_destroy(tied);
    m = ft_create((ft_desc){0});
    x = add_input(m, "x", FT_F32, 3, 0, 0);
    ft_set_output(m, ft_linear(m, "fc", x, 2, (ft_linear_options){.no_bias = true}));
    CHECK(ft_lora(m, "fc", (ft_lora_options){.bias = true, .dora = true}) == 0
          && strstr(ft_error_text(m), "bias is for adapters without dora"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_lora(m, "fc", (ft_lora_options){.bias = true}) == 1, "%s", ft_error_text(m));
    CHECK(ft_merge(m, (ft_merge_options){0}) == 0 && strstr(ft_error_text(m), "fc has no bias, but its adapter has"),
          "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Beside a convolution: y + s B (A x), merged into one weight. */
static void test_convolution(void)
{
    ft_model *m = ft_create((ft_desc){0});
    float x[2 * 3 * 7 * 7], before[2 * 5 * 4 * 4], after[2 * 5 * 4 * 4], b[5 * 2];
    size_t i;
    ft_node y = ft_conv2d(m, "conv", ft_input(m, "x", (ft_input_options){.size = {3, 7, 7}}), 5,
                          (ft_conv2d_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    for (i = 0; i < sizeof x / sizeof *x; ++i) x[i] = (float)(i * 7 % 11) / 11 - 0.4f;
    for (i = 0; i < 10; ++i) b[i] = 0.3f - (float)i / 9;
    ft_set_output(m, y);
    CHECK(ft_lora(m, "conv", (ft_lora_options){.rank = 2, .alpha = 3}) == 1, "%s", ft_error_text(m));
    ft_run(m, x, 2, before, sizeof before / sizeof *before);
    ft_set(m, ft_find(m, "conv.lora_B.weight"), b, 10);
    ft_run(m, x, 2, after, sizeof after / sizeof *after);
    CHECK(ft_error(m) == FT_OK && memcmp(before, after, sizeof after) != 0, "%s", ft_error_text(m));
    CHECK(ft_merge(m, (ft_merge_options){0}) == 1, "%s", ft_error_text(m));
    ft_run(m, x, 2, before, sizeof before / sizeof *before);
    CHECK(ft_node_count(m) > 0 && ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare_golden("a convolution, merged", before, after, sizeof after / sizeof *after, 1e-5);
    ft_destroy(m);
}

static void write_file(const char *path, const char *text);

static void test_adapter_refused(void)
{
    static const struct { const char *config, *error; } rows[] = {
        {"{}", "peft_type is missing; only LORA is supported"},
        {"{\"peft_type\": \"LOHA\"}", "peft_type is LOHA"},
        {"{\"peft_type\": \"LORA\", \"use_qalora\": true}", "use_qalora is not supported"},
        {"{\"peft_type\": \"LORA\", \"bias\": \"some\"}", "bias is some"},
        {"{\"peft_type\": \"LORA\", \"init_lora_weights\": \"pissa\"}", "init_lora_weights is pissa"},
        {"{\"peft_type\": \"LORA\", \"alpha_pattern\": {\".*query\": 3}}", "is a regular expression"},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": -1}", "lora_alpha -1"},
        {"{\"peft_type\": \"LORA\"", "adapter/adapter_config.json"}};
    size_t i;
    ft_model *m = load("distilbert", (ft_load_options){0});
    char path[300];
    int nodes = ft_node_count(m);
    snprintf(path, sizeof path, "%s/lora", folder);
    ft_load_adapter(m, path);
    CHECK(ft_error(m) == FT_MISMATCH && strstr(ft_error_text(m), "16 tensors of the adapter have no place"),
          "%s", ft_error_text(m));
    CHECK(ft_node_count(m) == nodes, "something was added");
    ft_clear_error(m);
    ft_load_adapter(m, "build");
    CHECK(ft_error(m) == FT_IO && strstr(ft_error_text(m), "adapter_config.json"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_save_adapter(m, "build", (ft_save_adapter_options){0});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "no adapters"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_lora(m, "tokens", (ft_lora_options){0}) == 0 && ft_error(m) == FT_INVALID
          && strstr(ft_error_text(m), "there is distilbert.transformer.layer.0.attention.q_lin"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_lora(m, NULL, (ft_lora_options){.dropout = 1}) == 0 && strstr(ft_error_text(m), "dropout 1"), "%s",
          ft_error_text(m));
    ft_destroy(m);
    mkdir("build/adapter", 0777);
    snprintf(path, sizeof path, "cp %s/lora/adapter_model.safetensors build/adapter", folder);
    CHECK(system(path) == 0, "cp");
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        m = load("bert", (ft_load_options){0});
        write_file("build/adapter/adapter_config.json", rows[i].config);
        ft_load_adapter(m, "build/adapter");
        CHECK(ft_error(m) != FT_OK && strstr(ft_error_text(m), rows[i].error), "%s: %s", rows[i].config,
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* Without a head: it is new, what its pretraining used is left out, and both are said. */
static void test_bare(ft_file *expected)
{
    static const char last[] = "encoder.layer.1.output.LayerNorm";
    ft_model *m = load("bert_bare", (ft_load_options){.network = {.classes = 5}});
    float hidden[SAMPLES * STEPS * 16], want[SAMPLES * STEPS * 16], mean[SAMPLES * 16];
    int32_t lengths[SAMPLES];
    int n, t, j;
    CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 5, "%s", ft_error_text(m));
    CHECK(strstr(log_text, "2 tensors of the network are new, and must be trained: classifier.weight [5, 16]")
          != NULL, "%s", log_text);
    CHECK(strstr(log_text, "2 tensors have no use in the network: pooler.dense.") != NULL, "%s", log_text);
    ft_keep(m, ft_find(m, last));
    ft_keep(m, ft_find(m, "pooled"));
    feed(m, expected, "bert_bare", false);
    ft_forward(m, false);
    ft_get(m, ft_find(m, last), hidden, sizeof hidden / sizeof *hidden);
    ft_get(m, ft_find(m, "pooled"), mean, SAMPLES * 16);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    golden_numbers(expected, "bert_bare", "hidden", want, sizeof want);
    for (n = 0; n < SAMPLES; ++n)
        for (t = lengths[n]; t < STEPS; ++t)
            for (j = 0; j < 16; ++j) hidden[(n * STEPS + t) * 16 + j] = 0; /* of padding: anything */
    compare_golden("bert_bare", hidden, want, sizeof hidden / sizeof *hidden, 1e-4);
    golden_numbers(expected, "bert_bare", "mean", want, sizeof want);
    compare_golden("bert_bare, mean", mean, want, SAMPLES * 16, 1e-4);
    ft_destroy(m);
}

/* A text's bits do not depend on what it is beside. */
static void test_alone(ft_file *expected)
{
    ft_model *m = load("bert", (ft_load_options){0});
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES];
    float together[SAMPLES * CLASSES], alone[CLASSES];
    int n;
    feed(m, expected, "bert", false);
    ft_forward(m, false);
    ft_get(m, ft_output(m), together, SAMPLES * CLASSES);
    golden_numbers(expected, "bert", "ids", ids, sizeof ids);
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    for (n = 0; n < SAMPLES; ++n) {
        ft_set_length(m, lengths[n]);
        ft_feed(m, ft_find(m, "tokens"), ids + n * STEPS, 1);
        ft_feed(m, ft_find(m, "lengths"), lengths + n, 1);
        ft_forward(m, false);
        ft_get(m, ft_output(m), alone, CLASSES);
        CHECK(ft_error(m) == FT_OK && memcmp(alone, together + n * CLASSES, sizeof alone) == 0, "text %d: %s",
              n, ft_error_text(m));
    }
    ft_destroy(m);
}

/* Of the names in a config.json; and a sequence longer than the table of positions. */
static void test_class_names(void)
{
    ft_model *m = load("bert", (ft_load_options){0});
    int32_t ids[13] = {1}, length = 13;
    CHECK(ft_class_name(m, 1) && !strcmp(ft_class_name(m, 1), "so so"), "%s",
          ft_class_name(m, 1) ? ft_class_name(m, 1) : "none");
    ft_set_length(m, 13);
    ft_feed(m, ft_find(m, "tokens"), ids, 1);
    ft_feed(m, ft_find(m, "lengths"), &length, 1);
    ft_forward(m, false);
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "a sequence of 13 steps, but there are only 12"),
          "%s", ft_error_text(m));
    ft_destroy(m);
    m = load("distilbert", (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK && !ft_class_name(m, 0), "LABEL_0 is no name");
    ft_destroy(m);
}

/* ---- Folders that are refused ---- */
static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file) fputs(text, file);
    if (file) fclose(file);
}

static void copy_weights(const char *to)
{
    char command[300];
    snprintf(command, sizeof command, "cp %s/bert/model.safetensors %s", folder, to);
    CHECK(system(command) == 0, "%s", command);
}

static void test_refused(void)
{
    static const struct { const char *config, *error; } rows[] = {
        {"{\"model_type\": \"t5\"}", "model_type is t5; it must be bert, roberta, distilbert"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 4096}", "model_type is mistral; it must be bert, roberta"},
        {"{\"model_type\": \"dinov2_with_registers\", \"num_register_tokens\": 4}", "is dinov2_with_registers; it must be"},
        {"{\"num_attention_heads\": 4}", "model_type is missing"},
        {"{\"model_type\": \"bert\"", "encoders/config.json: "},
        {"{\"model_type\": \"bert\"}", "the number of heads is needed"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 5}", "16 features, 5 heads"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": \"four\"}",
         "num_attention_heads is not a number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": -4}", "num_attention_heads is not a number"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"hidden_act\": \"xielu\"}",
         "hidden_act is xielu; it must be gelu"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"position_embedding_type\":"
         " \"relative_key\"}", "position_embedding_type is relative_key; only absolute is supported"},
        {"{\"model_type\": \"bert\", \"num_attention_heads\": 4, \"is_decoder\": true}",
         "is_decoder is another value; only false is supported"},
        {"{\"model_type\": \"distilbert\", \"n_heads\": 4}", "have another shape than in the network"}};
    ft_model *m = ft_create((ft_desc){0});
    size_t i;
    mkdir("build/encoders", 0777);
    remove("build/encoders/config.json");
    ft_load(m, "build/encoders", (ft_load_options){0});
    CHECK(ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), "a folder without a config.json"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    write_file("build/encoders/config.json", rows[3].config);
    remove("build/encoders/model.safetensors");
    ft_load(m, "build/encoders", (ft_load_options){0});
    CHECK(ft_error(m) == FT_IO && strstr(ft_error_text(m), "none of model.safetensors, pytorch_model.bin"), "%s",
          ft_error_text(m));
    copy_weights("build/encoders");
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_clear_error(m);
        write_file("build/encoders/config.json", rows[i].config);
        ft_load(m, "build/encoders", (ft_load_options){0});
        CHECK(ft_error(m) != FT_OK && strstr(ft_error_text(m), rows[i].error), "%s: %s", rows[i].config,
              ft_error_text(m));
        CHECK(ft_node_count(m) == 0, "%s: half a network is left", rows[i].config);
    }
    ft_clear_error(m);
    ft_load(m, "build/encoders/model.safetensors", (ft_load_options){0});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "ft_network_options.heads"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    ft_load(m, "build/encoders/model.safetensors", (ft_load_options){.network = {.heads = 4}});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Weights in two files, as save_pretrained writes them: the same tensors as in one. */
static void test_shards(void)
{
    int mapped;
    for (mapped = 0; mapped < 2; ++mapped) {
        ft_model *m = load("bert_shards", (ft_load_options){.weights.map = mapped});
        ft_file *one = ft_file_open(m, "tests/golden/encoders/bert/model.safetensors", (ft_weights_options){0});
        ft_file *index = ft_file_open(m, "tests/golden/encoders/bert_shards/model.safetensors.index.json",
                                      (ft_weights_options){.map = mapped});
        int i;
        CHECK(ft_error(m) == FT_OK && ft_file_count(index) == 41, "%d tensors: %s", ft_file_count(index),
              ft_error_text(m));
        for (i = 0; i < ft_file_count(one); ++i) {
            ft_tensor_info t = ft_file_tensor(one, i);
            size_t count = (size_t)(t.bytes / sizeof(float)), k;
            float *want = calloc(count, sizeof *want), *got = calloc(count, sizeof *got);
            float *loaded = calloc(count, sizeof *loaded);
            ft_file_read_f32(one, i, want, count);
            ft_file_read_f32(index, ft_file_find(index, t.name), got, count);
            ft_get(m, ft_find(m, t.name), loaded, count);
            for (k = 0; k < count && got[k] == want[k] && loaded[k] == want[k]; ++k) {}
            CHECK(count > 0 && k == count, "%s: number %zu differs", t.name, k);
            free(want);
            free(got);
            free(loaded);
        }
        CHECK(ft_file_count(one) == 41 && ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_file_close(index);
        ft_file_close(one);
        ft_destroy(m);
    }
}

static void test_shards_refused(void)
{
    static const struct { const char *index, *error; } rows[] = {
        {"{\"weight_map\": 3}", "weight_map must be an object with the file of each tensor"},
        {"{\"weight_map\": {}}", "weight_map must be an object with the file of each tensor"},
        {"{\"weight_map\": {\"a\": 1}}", "the file of tensor a is \"\""},
        {"{\"weight_map\": {\"a\": \"../x\"}}", "the file of tensor a is \"../x\""},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "the file of tensor a is \"/etc/passwd\""},
        {"{\"weight_map\": {\"a\": \"none.safetensors\"}}", "none.safetensors"},
        {"{\"weight_map\": {\"a\": \"index.json\"}}", "is an index too"},
        {"{\"weight_map\": {\"a\": \"model.safetensors\"}}", "tensor a is not in model.safetensors"},
        {"{\"weight_map\": {\"a\": \"model.safetensors\"", "index.json: "}};
    ft_model *m = ft_create((ft_desc){0});
    ft_file *file;
    size_t i;
    mkdir("build/shards", 0777);
    copy_weights("build/shards");
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_clear_error(m);
        write_file("build/shards/index.json", rows[i].index);
        file = ft_file_open(m, "build/shards/index.json", (ft_weights_options){0});
        CHECK(!file && ft_error(m) != FT_OK && strstr(ft_error_text(m), rows[i].error), "%s: %s",
              rows[i].index, ft_error_text(m));
        ft_file_close(file);
    }
    ft_clear_error(m);
    file = ft_file_open(m, NULL, (ft_weights_options){.memory = rows[7].index, .bytes = strlen(rows[7].index)});
    CHECK(!file && strstr(ft_error_text(m), "must be opened by its path"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* 1_Pooling/config.json, in the spellings of old and new versions. */
static void test_pooling(void)
{
    static const struct { const char *pooling; int kind; const char *error; } rows[] = {
        {"{\"pooling_mode\": \"cls\"}", FT_POOL_FIRST, NULL},
        {"{\"pooling_mode\": \"max\"}", FT_POOL_MAX, NULL},
        {"{\"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true}", FT_POOL_MEAN, NULL},
        {"{\"pooling_mode\": \"lasttoken\"}", 0, "the pooling must be one of mean, max and cls"},
        {"{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}", 0, "must be one of"}};
    size_t i;
    mkdir("build/encoders", 0777);
    mkdir("build/encoders/1_Pooling", 0777);
    CHECK(system("cp tests/golden/encoders/bert_bare/* build/encoders") == 0, "cp");
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_model *m = ft_create((ft_desc){0});
        write_file("build/encoders/1_Pooling/config.json", rows[i].pooling);
        ft_load(m, "build/encoders", (ft_load_options){0});
        if (rows[i].error)
            CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), rows[i].error), "%s: %s",
                  rows[i].pooling, ft_error_text(m));
        else {
            int32_t ids[4] = {3, 7, 9, 20}, length = 3, j;
            float hidden[4 * 16], pooled[16];
            ft_node last = ft_find(m, "encoder.layer.1.output.LayerNorm");
            ft_keep(m, last);
            ft_keep(m, ft_find(m, "pooled"));
            ft_set_length(m, 4);
            ft_feed(m, ft_find(m, "tokens"), ids, 1);
            ft_feed(m, ft_find(m, "lengths"), &length, 1);
            ft_forward(m, false);
            ft_get(m, last, hidden, 64);
            ft_get(m, ft_find(m, "pooled"), pooled, 16);
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            for (j = 0; j < 16; ++j) {
                double a = (double)hidden[j], b = (double)hidden[16 + j], c = (double)hidden[32 + j];
                double want = rows[i].kind == FT_POOL_FIRST ? a : rows[i].kind == FT_POOL_MEAN
                    ? (a + b + c) / 3 : fmax(a, fmax(b, c));
                CHECK(CLOSE(pooled[j], want, 1e-6), "%s, feature %d: %g", rows[i].pooling, j,
                      (double)pooled[j]);
            }
        }
        ft_destroy(m);
    }
    remove("build/encoders/1_Pooling/config.json");
}

/* ---- A real one: MiniLM, of which sentence-transformers' authors gave the weights ---- */

static void test_minilm(void)
{
    enum { TEXTS = 5, LENGTH = 11, FEATURES = 384 };
    static const char *const sentences[TEXTS] = {
        "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.",
        "A man is eating food.", "A man is eating a piece of bread."}; /* minilm_sentences.json */
    int64_t tokens[TEXTS * LENGTH] = {0};
    const char *data = getenv("FINETUNE_DATA");
    char path[400];
    ft_model *m;
    ft_file *expected;
    int32_t ids[TEXTS * LENGTH], lengths[TEXTS];
    static float got[TEXTS * FEATURES], want[TEXTS * FEATURES];
    int n, t;
    if (data) snprintf(path, sizeof path, "%s/weights/minilm_l3/expected.npz", data);
    if (!data || access(path, R_OK) != 0) {
        SKIP("needs FINETUNE_DATA/weights/minilm_l3");
        return;
    }
    m = ft_create((ft_desc){.log = collect});
    expected = ft_file_open(m, path, (ft_weights_options){0});
    CHECK(golden_numbers(expected, "", "pooled", want, sizeof want) == TEXTS * FEATURES
          && golden_numbers(expected, "", "input_ids", tokens, sizeof tokens) == 2 * TEXTS * LENGTH,
          "expected.npz is not as described: %s", ft_error_text(m));
    ft_file_close(expected);
    for (n = 0; n < TEXTS; ++n)
        for (t = 0, lengths[n] = 0; t < LENGTH; ++t) {
            ids[n * LENGTH + t] = (int32_t)tokens[n * LENGTH + t];
            lengths[n] += ids[n * LENGTH + t] != 0;
        }
    snprintf(path, sizeof path, "%s/weights/minilm_l3", data);
    log_text[0] = 0;
    ft_load(m, path, (ft_load_options){0});
    CHECK(!strstr(log_text, "is not applied"), "%s", log_text);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_get_tokenizer(m) && ft_tokenizer_count(ft_get_tokenizer(m)) == 30522, "its tokeniser");
    ft_keep(m, ft_find(m, "pooled"));
    ft_set_length(m, LENGTH);
    ft_feed(m, ft_find(m, "tokens"), ids, TEXTS);
    ft_feed(m, ft_find(m, "lengths"), lengths, TEXTS);
    ft_forward(m, false);
    ft_get(m, ft_find(m, "pooled"), got, TEXTS * FEATURES);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare_golden("minilm_l3", got, want, TEXTS * FEATURES, 1e-4);
    memset(got, 0, sizeof got);
    ft_set_text_vector(m, ft_find(m, "pooled"), (ft_text_vector_options){0});
    ft_embed_texts(m, sentences, TEXTS, got, TEXTS * FEATURES, (ft_embed_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    compare_golden("minilm_l3, from texts", got, want, TEXTS * FEATURES, 1e-4);
    ft_destroy(m);
}

/* A tokeniser of three words. */
static const char words[] = "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"vocab\":"
    " {\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"a\": 4, \"b\": 5, \"c\": 6}},"
    " \"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\":"
    " \"BertPreTokenizer\"}, \"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3],"
    " \"cls\": [\"[CLS]\", 2]}}";

/* A text that is cut keeps the [SEP] at its end, as Hugging Face's tokenisers do. */
static void test_cut(void)
{
    static const char table[] = "text\tlabel\na b c\tx\na\ty\nc b a b\tx\n";
    static const char *const cut[] = {"a b", "a", "c b"}; /* what is left between [CLS] and [SEP] */
    ft_model *m = load("bert", (ft_load_options){0});
    ft_tokenizer *t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = words,
                                                                        .bytes = sizeof words - 1});
    ft_data *data;
    ft_prediction all[3], one;
    int n;
    ft_set_tokenizer(m, t);
    data = ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1, .longest = 4});
    ft_predict_data(m, data, all, 1, (ft_predict_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (n = 0; n < 3; ++n) {
        ft_predict_text(m, cut[n], strlen(cut[n]), &one, 1);
        CHECK(one.probability == all[n].probability && one.class_index == all[n].class_index,
              "\"%s\": %g, cut %g", cut[n], (double)one.probability, (double)all[n].probability);
        CHECK(n == 0 || one.probability != all[0].probability, "all texts are the same");
    }
    ft_predict_text(m, "a b c", 5, &one, 1); /* is cut alike */
    CHECK(ft_error(m) == FT_OK && one.probability == all[0].probability, "%g and %g: %s",
          (double)one.probability, (double)all[0].probability, ft_error_text(m));
    ft_destroy(m);
}

static bool stop_later(void *user, const ft_progress *progress)
{
    int *left = (int *)user;
    return progress->epoch_done || progress->preparing || (*left)-- > 1;
}

static bool die_later(void *user, const ft_progress *progress)
{
    if (!stop_later(user, progress)) kill(getpid(), SIGKILL);
    return true;
}

/* Trains adapters, with dropout, for three epochs; stops, or is killed, after some steps, of 9. */
static void train_adapters(const char *checkpoint, int steps, bool killed, const char *out)
{
    static const char table[] = "text\tlabel\na b c\tx\na\ty\nc b a b\tx\nb b\tz\nc\ty\na c\tz\nb c a\tx\nb\ty\n";
    ft_model *m = load("bert", (ft_load_options){0});
    ft_fit_options o = {.epochs = 3, .batch_size = 3, .checkpoint = checkpoint, .checkpoint_steps = 1,
                        .progress = killed ? die_later : stop_later, .progress_user = &steps, .schedule = FT_LINEAR,
                        .optimizer = {.learning_rate = 1e-2f}};
    ft_data *data;
    ft_fit_result r;
    bool stops = steps < 9;
    ft_set_tokenizer(m, ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = words,
                                                                          .bytes = sizeof words - 1}));
    ft_lora(m, "*query,*key", (ft_lora_options){.rank = 2, .dora = true, .dropout = 0.2f});
    ft_lora(m, NULL, (ft_lora_options){.rank = 3, .dropout = 0.3f});
    CHECK(!ft_node_frozen(m, ft_find(m, "bert.encoder.layer.0.attention.self.query.lora_dropout")), "frozen");
    data = ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1});
    r = ft_fit(m, data, o);
    CHECK(ft_error(m) == FT_OK && r.stopped == stops, "stopped %d: %s", r.stopped, ft_error_text(m));
    CHECK(r.before.frozen == r.after.frozen && r.before.tensors > 30, "%d are frozen", r.before.tensors);
    ft_save(m, out, (ft_save_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A part of the training, to be continued; `killed`: in a process of its own, which is killed. */
static void train_part(const char *checkpoint, int steps, bool killed, const char *out)
{
    int status = 0;
    pid_t child;
    if (!killed) {
        train_adapters(checkpoint, steps, false, out);
        return;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        train_adapters(checkpoint, steps, true, out);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "killed after step %d", steps);
    CHECK(access(checkpoint, R_OK) == 0, "no checkpoint after step %d", steps);
}

/* A run of adapters that was stopped or killed twice ends with the bytes of one that was not. */
static void test_resumed_adapters(void)
{
    static const char checkpoint[] = "build/adapters.checkpoint", parts[] = "build/adapters_parts.safetensors";
    static const struct { bool killed; int steps[2]; } rows[] = {{false, {2, 4}}, {true, {2, 4}}, {true, {3, 5}}};
    size_t bytes[2] = {0, 0}, r;
    unsigned char *file[2];
    int k;
    remove(checkpoint);
    train_adapters(checkpoint, 1000, false, "build/adapters_whole.safetensors");
    file[0] = bytes_of_file("build/adapters_whole.safetensors", &bytes[0]);
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        remove(checkpoint);
        remove(parts);
        for (k = 0; k < 2; ++k) train_part(checkpoint, rows[r].steps[k], rows[r].killed, parts);
        train_adapters(checkpoint, 1000, false, parts);
        file[1] = bytes_of_file(parts, &bytes[1]);
        CHECK(bytes[0] > 1000 && bytes[0] == bytes[1] && memcmp(file[0], file[1], bytes[0]) == 0,
              "row %d: %zu and %zu bytes differ", (int)r, bytes[0], bytes[1]);
        free(file[1]);
    }
    free(file[0]);
}

int main(void)
{
    static const char *const networks[] = {"bert", "roberta", "distilbert"};
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected = open_golden(m, "encoders/expected");
    size_t i;
    for (i = 0; i < sizeof networks / sizeof networks[0]; ++i) test_golden(expected, networks[i]);
    test_adapter(expected, "lora", "bert");
    test_adapter(expected, "rslora", "roberta");
    test_adapter(expected, "dora", "bert");
    test_adapter(expected, "words", "distilbert");
    test_bare_adapter(expected);
    test_new_adapter(expected);
    test_convolution();
    test_new_dora(expected);
    test_dora_dropout();
    test_first_dropout();
    test_mixed("dora", 4);
    test_mixed("bias", 2);
    test_unmerge(expected);
    test_unmerge_refused();
    test_unmerge_memory();
    test_adapter_use();
    test_vocabulary_refused();
    test_adapter_refused();
    test_bare(expected);
    test_alone(expected);
    test_class_names();
    test_refused();
    test_shards();
    test_shards_refused();
    test_pooling();
    test_cut();
    test_resumed_adapters();
    test_minilm();
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_encoders");
}
