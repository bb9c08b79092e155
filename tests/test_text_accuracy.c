/* test_text_accuracy.c - recurrent networks learn from text: on sst2, against the accuracies that
   tests/text_reference.py measures for the same network in PyTorch. It needs LONG=1 and the data.
   (In `make test` the examples do the same on made-up sentences: test_tool_text.sh.)

     build/test_text_accuracy [shakespeare|moved|scratch|few|encoder|decoder] */
#include "check.h"
#include "finetune.h"

static const char *data_path(const char *name)
{
    static char path[512];
    const char *data = getenv("FINETUNE_DATA");
    snprintf(path, sizeof path, "%s/%s", data ? data : "../shared/data", name);
    return path;
}

static bool there(const char *name)
{
    FILE *file = fopen(data_path(name), "rb");
    if (file) fclose(file);
    return file != NULL;
}

static ft_model *new_model(uint64_t seed)
{
    ft_desc desc = {.seed = seed, .threads = 2};
    return ft_create(desc);
}

/* ---- Networks ---- */
typedef struct network { int features, hidden, layers, classes; bool bidirectional; } network;

static ft_node tokens_of(ft_model *m)
{
    return ft_input(m, "tokens", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
}

/* Embedding, LSTM, the last, largest and mean step side by side, dropout, linear. */
static void build_classifier(ft_model *m, network n, float dropout)
{
    ft_node tokens = tokens_of(m), pooled[3], x, logits;
    ft_node lengths = ft_input(m, "lengths", (ft_input_options){.type = FT_I32});
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    int k;
    x = ft_embedding(m, "embedding", tokens, ft_tokenizer_count(ft_get_tokenizer(m)), n.features,
                     (ft_embedding_options){0});
    x = ft_dropout(m, "embedding_dropout", x, (ft_dropout_options){.probability = dropout});
    x = ft_lstm(m, "lstm", x, n.hidden, (ft_recurrent_options){
        .layers = n.layers, .bidirectional = n.bidirectional, .lengths = lengths});
    for (k = 0; k < 3; ++k) {
        static const char *const names[] = {"last", "mean", "max"};
        pooled[k] = ft_step_pool(m, names[k], x, lengths, (ft_step_pool_options){
            .kind = (ft_step_pooling)k, .bidirectional = n.bidirectional});
    }
    x = ft_concat(m, "pooled", 3, pooled, 1);
    x = ft_dropout(m, "dropout", x, (ft_dropout_options){.probability = dropout});
    logits = ft_linear(m, "head", x, n.classes, (ft_linear_options){0});
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, labels, (ft_loss_options){0}));
}

/* Embedding, LSTM whose state is carried, linear over all tokens. */
static void build_language_model(ft_model *m, network n, const char *head, float dropout)
{
    ft_node tokens = tokens_of(m), x, logits;
    ft_node labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    int words = ft_tokenizer_count(ft_get_tokenizer(m));
    x = ft_embedding(m, "embedding", tokens, words, n.features, (ft_embedding_options){0});
    if (dropout > 0)
        x = ft_dropout(m, "embedding_dropout", x, (ft_dropout_options){.probability = dropout});
    x = ft_lstm(m, "lstm", x, n.hidden, (ft_recurrent_options){.layers = n.layers, .carry = true});
    if (dropout > 0) x = ft_dropout(m, "dropout", x, (ft_dropout_options){.probability = dropout});
    logits = ft_linear(m, head, x, words, (ft_linear_options){0});
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, labels, (ft_loss_options){0}));
}

/* ---- sst2, from scratch: the mean of three seeds beside PyTorch's ---- */
static const ft_vocabulary_options sst2_words = {.minimum_count = 2, .cased = true,
                                                 .spaces_only = true};
/* tests/text_reference.py: 79.24, 79.13 and 77.06 % with the seeds 1, 2 and 3 */
static const double pytorch_scratch = 0.7848;

static double share(ft_model *m, ft_data *data, const char *what, uint64_t seed)
{
    ft_evaluation e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && e.total == ft_data_count(data), "%s", ft_error_text(m));
    printf("sst2, %s, seed %d: %d of %d right, %.2f %%\n", what, (int)seed, e.correct, e.total,
           100 * e.accuracy);
    fflush(stdout);
    return e.accuracy;
}

static double sst2_scratch(uint64_t seed)
{
    ft_model *m = new_model(seed);
    ft_data *train = ft_texts(m, data_path("text/sst2/train.tsv"), (ft_text_options){
        .vocabulary = sst2_words});
    ft_data *dev = ft_texts(m, data_path("text/sst2/dev.tsv"), (ft_text_options){0});
    double right;
    build_classifier(m, (network){.features = 100, .hidden = 128, .layers = 1, .classes = 2,
                                  .bidirectional = true}, 0.5f);
    ft_finetune(m, train, (ft_finetune_options){0});
    right = share(m, dev, "from scratch, 6,920 sentences", seed);
    ft_destroy(m);
    return right;
}

static void test_scratch(void)
{
    double mean = 0;
    int seed;
    for (seed = 1; seed <= 3; ++seed) mean += sst2_scratch((uint64_t)seed) / 3;
    printf("sst2 from scratch: mean %.2f %%, PyTorch %.2f %%\n", 100 * mean, 100 * pytorch_scratch);
    CHECK(mean > pytorch_scratch - 0.01, "mean %.4f, PyTorch %.4f", mean, pytorch_scratch);
}

/* ---- sst2, 200 labels: after a language model of the same sentences, and from scratch ---- */
static const char language_model[] = "build/test_text_accuracy.safetensors";

/* The decoder's bias begins at the logarithm of each word's share of what is read, where one that is
   more than `most` of all words is left out at random. */
static void set_frequencies(ft_model *m, const ft_data *text, float most)
{
    int words = ft_tokenizer_count(ft_get_tokenizer(m)), i, k;
    float *share_of = (float *)calloc((size_t)words, sizeof *share_of), all = 0, kept = 0;
    for (i = 0; i < ft_data_count(text); ++i) {
        const char *sentence = ft_data_name(text, i);
        ft_tokens tokens = ft_tokenize(ft_get_tokenizer(m), sentence, strlen(sentence),
                                       (ft_tokenize_options){0});
        for (k = 0; k < tokens.count; ++k) share_of[tokens.ids[k]] += 1;
        all += (float)tokens.count;
    }
    for (i = 0; i < words; ++i) {
        share_of[i] /= all;
        if (share_of[i] > most) share_of[i] = sqrtf(share_of[i] * most);
        kept += share_of[i];
    }
    for (i = 0; i < words; ++i) share_of[i] = logf(fmaxf(share_of[i] / kept, 1e-6f));
    ft_set(m, ft_find(m, "decoder.bias"), share_of, (size_t)words);
    free(share_of);
}

/* Learns which words stand together in the 6,920 sentences, whose labels it does not see: in each
   epoch their words are in another order. (The usual language model, of the next word, learns the
   grammar of so few words instead, and a classifier gains nothing from it.) */
static void learn_sentences(void)
{
    ft_model *m = new_model(1);
    ft_data *text = ft_texts(m, data_path("text/sst2/train.tsv"), (ft_text_options){
        .text_column = "1", .unlabelled = true, .vocabulary = sst2_words, .shuffle = true,
        .subsample = 1e-3f});
    int words = ft_tokenizer_count(ft_get_tokenizer(m));
    ft_dropout_options locked = {.probability = 0.3f, .locked = true};
    ft_node labels, x = ft_embedding(m, "embedding", tokens_of(m), words, 100,
                                     (ft_embedding_options){0});
    ft_fit_result r;
    labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32, .size = {FT_LENGTH}});
    x = ft_dropout(m, "embedding_dropout", x, locked);
    x = ft_lstm(m, "lstm", x, 100, (ft_recurrent_options){0});
    x = ft_dropout(m, "output_dropout", x, locked);
    x = ft_linear(m, "decoder", x, words, (ft_linear_options){
        .weight = ft_find(m, "embedding.weight")});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    ft_initialise(m, "embedding.weight", FT_INIT_KAIMING_UNIFORM); /* small, for the decoder's sake */
    set_frequencies(m, text, 1e-3f);
    r = ft_fit(m, text, (ft_fit_options){
        .epochs = 15, .batch_size = 64, .schedule = FT_ONE_CYCLE, .fixed_momentum = true, .augment = true,
        .optimizer = {.learning_rate = 1e-2f, .weight_decay = 0.01f, .clip_norm = 1, .beta2 = 0.99f}});
    ft_save(m, language_model, (ft_save_options){0});
    printf("sst2 without labels: %.3f nats a word\n", r.loss);
    fflush(stdout);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* 100 sentences of each class, drawn by the seed. What differs is where the weights begin. The rate
   and the shares were chosen on 2,000 other sentences of the training part, for both; nothing was
   chosen on those that are scored, sst2's test sentences. */
static double sst2_200(uint64_t seed, bool pretrained)
{
    ft_model *m = new_model(seed);
    ft_data *few, *test;
    double right;
    ft_load(m, language_model, (ft_load_options){0});
    ft_language_model_to_classifier(m, 2, (ft_language_model_to_classifier_options){
        .dropout = 0.5f});
    if (!pretrained) {
        ft_initialise(m, "*", FT_INIT_DEFAULT);
        ft_initialise(m, "embedding.weight", FT_INIT_KAIMING_UNIFORM);
    }
    few = ft_texts(m, data_path("text/sst2/train.tsv"), (ft_text_options){
        .per_class = 100, .shuffle = true, .subsample = 3e-3f});
    test = ft_texts(m, data_path("text/sst2/test.tsv"), (ft_text_options){0});
    ft_fit(m, few, (ft_fit_options){
        .epochs = 20, .batch_size = 16, .schedule = FT_ONE_CYCLE, .fixed_momentum = true, .augment = true,
        .optimizer = {.learning_rate = 3e-3f, .weight_decay = 0.01f, .clip_norm = 1}});
    right = share(m, test, pretrained ? "200 labels, after a language model"
                                     : "200 labels, from scratch", seed);
    ft_destroy(m);
    return right;
}

static void test_few_labels(void)
{
    double mean[2] = {0, 0};
    int seed, pretrained;
    learn_sentences();
    for (seed = 1; seed <= 3; ++seed)
        for (pretrained = 0; pretrained < 2; ++pretrained)
            mean[pretrained] += sst2_200((uint64_t)seed, pretrained == 1) / 3;
    printf("sst2, 200 labels: mean %.2f %%, from scratch %.2f %%\n", 100 * mean[1], 100 * mean[0]);
    CHECK(mean[1] >= mean[0] + 0.03, "mean %.4f, from scratch %.4f", mean[1], mean[0]);
    remove(language_model);
}

/* ---- A character model of Shakespeare ---- */

static ft_model *shakespeare(bool pretrained)
{
    ft_model *m = new_model(1);
    static const network as_published = {.features = 128, .hidden = 128, .layers = 2};
    ft_set_tokenizer(m, ft_tokenizer_load(m, data_path("weights/charrnn_shakespeare.vocab.json"),
                                          (ft_tokenizer_options){0}));
    build_language_model(m, as_published, "out", 0);
    if (pretrained)
        ft_load_weights(m, data_path("weights/charrnn_shakespeare.safetensors"),
                        (ft_weights_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* 64 streams from zero state: 1.29584 nats, 59.93 % (PyTorch, on the same file). */
static void test_shakespeare(void)
{
    ft_model *m = shakespeare(true);
    ft_data *text = ft_text_streams(m, data_path("text/tinyshakespeare.txt"), (ft_stream_options){
        .streams = 64, .steps = 256});
    ft_evaluation e = ft_evaluate(m, text, (ft_evaluate_options){0});
    printf("charrnn_shakespeare: %.5f nats, %.2f %% of %d right\n", e.loss, 100 * e.accuracy,
           e.total);
    CHECK(CLOSE(e.loss, 1.29584, 2e-4) && CLOSE(e.accuracy, 0.5993, 1e-4), "%.5f, %.4f (%s)", e.loss,
          e.accuracy, ft_error_text(m));
    ft_destroy(m);
}

/* The sentences of sst2's test part, after three epochs over those of its dev part. */
static void test_moved(void)
{
    double loss[2];
    int pretrained;
    for (pretrained = 0; pretrained < 2; ++pretrained) {
        ft_model *m = shakespeare(pretrained == 1);
        ft_data *dev = ft_text_streams(m, data_path("text/sst2/dev.tsv"), (ft_stream_options){
            .text_column = "1", .streams = 16});
        ft_data *test = ft_text_streams(m, data_path("text/sst2/test.tsv"), (ft_stream_options){
            .text_column = "1", .streams = 16});
        double before = ft_evaluate(m, test, (ft_evaluate_options){0}).loss;
        ft_finetune(m, dev, (ft_finetune_options){.epochs = 3});
        loss[pretrained] = ft_evaluate(m, test, (ft_evaluate_options){0}).loss;
        printf("characters of sst2, %s: %.4f nats before, %.4f after\n",
               pretrained ? "charrnn_shakespeare" : "from scratch", before, loss[pretrained]);
        fflush(stdout);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    CHECK(loss[1] < loss[0], "%g, from scratch %g", loss[1], loss[0]);
}

/* ---- sst2, 200 labels, by the default recipe on a sentence encoder ---- */
static void test_encoder(void)
{
    double mean = 0;
    int k;
    for (k = 1; k <= 3; ++k) {
        ft_model *m = new_model(0);
        ft_data *few, *test;
        char name[64];
        ft_load(m, data_path("weights/minilm_l3"), (ft_load_options){0});
        snprintf(name, sizeof name, "text/sst2/few_%d.tsv", k);
        few = ft_texts(m, data_path(name), (ft_text_options){.longest = 64});
        ft_finetune(m, few, (ft_finetune_options){0});
        test = ft_texts(m, data_path("text/sst2/test.tsv"), (ft_text_options){.match_classes = true});
        mean += share(m, test, name, 0) / 3;
        ft_destroy(m);
    }
    printf("sst2 from minilm_l3, 200 labels: mean %.2f %%\n", 100 * mean);
    CHECK(mean >= 0.747, "mean %.4f", mean); /* the whole network in PyTorch 0.752, less half a point */
}

/* ---- sst2 by a language model of children's stories that gets a head ---- */

typedef enum way { WHOLE, LORA, HEAD, SCRATCH, WAYS } way;
static const char *const way_names[WAYS] = {"whole network", "LoRA", "head", "from scratch"};

/* The mean of all steps goes into the head. AdamW, one cycle, batches of 32, 6 epochs, 96 tokens. */
static double sst2_stories(uint64_t seed, way how)
{
    ft_model *m = new_model(seed);
    ft_data *train, *dev;
    double right;
    ft_load(m, data_path("weights/stories260K.safetensors"), (ft_load_options){0});
    ft_set_tokenizer(m, ft_tokenizer_load(m, data_path("weights/tok512.bin"),
                                          (ft_tokenizer_options){0}));
    ft_language_model_to_classifier(m, 2, (ft_language_model_to_classifier_options){0});
    ft_replace(m, ft_find(m, "pool"), ft_step_pool(m, "mean", ft_find(m, "norm"), ft_find(m, "lengths"),
                                                   (ft_step_pool_options){.kind = FT_POOL_MEAN}));
    if (how == SCRATCH) ft_initialise(m, "*", FT_INIT_DEFAULT);
    if (how == LORA) ft_lora(m, NULL, (ft_lora_options){.rank = 8, .alpha = 16});
    if (how == HEAD) ft_freeze(m, "*");
    if (how == HEAD) ft_unfreeze(m, "score.*");
    train = ft_texts(m, data_path("text/sst2/train.tsv"), (ft_text_options){.longest = 96});
    dev = ft_texts(m, data_path("text/sst2/dev.tsv"), (ft_text_options){.longest = 96});
    ft_fit(m, train, (ft_fit_options){
        .epochs = 6, .batch_size = 32, .schedule = FT_ONE_CYCLE, .fixed_momentum = true,
        .optimizer = {.learning_rate = how == LORA ? 3e-3f : 1e-3f, .weight_decay = 0.01f}});
    right = share(m, dev, way_names[how], seed);
    ft_destroy(m);
    return right;
}

/* In PyTorch, seeds 1 to 3: whole 77.3, 77.5, 78.9, LoRA 74.2, 74.3, head 56.7, scratch 66.4 %. */
static void test_decoder(void)
{
    double mean[WAYS] = {0};
    int seed, how;
    for (how = 0; how < WAYS; ++how) {
        int seeds = how < HEAD ? 3 : 1; /* the others are far below */
        for (seed = 1; seed <= seeds; ++seed)
            mean[how] += sst2_stories((uint64_t)seed, (way)how) / seeds;
    }
    for (how = 0; how < WAYS; ++how)
        printf("sst2 from stories260K, %s: mean %.2f %%\n", way_names[how], 100 * mean[how]);
    CHECK(mean[WHOLE] >= 0.765 && mean[LORA] >= 0.73, "%.4f, LoRA %.4f", mean[WHOLE], mean[LORA]);
    for (how = HEAD; how <= SCRATCH; ++how)
        CHECK(mean[how] < mean[LORA] && mean[how] < mean[WHOLE], "%s %.4f", way_names[how], mean[how]);
}

int main(int count, char **words)
{
    const char *only = count > 1 ? words[1] : "";
    bool all = count < 2;
    if ((all && !getenv("LONG")) || !there("text/sst2/train.tsv")) {
        SKIP("needs LONG=1 and the data");
        return check_done("test_text_accuracy");
    }
    if (all || !strcmp(only, "shakespeare")) test_shakespeare();
    if (all || !strcmp(only, "moved")) test_moved();
    if (all || !strcmp(only, "scratch")) test_scratch();
    if (all || !strcmp(only, "few")) test_few_labels();
    if (all || !strcmp(only, "encoder")) test_encoder();
    if (all || !strcmp(only, "decoder")) test_decoder();
    return check_done("test_text_accuracy");
}
