/* test_text_train.c - recurrent networks on text from end to end: prediction from one file, padding
   that changes nothing, generation, and a run that is killed in the middle of a stream. */
#define _POSIX_C_SOURCE 200809L
#include "public.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char table[] =
    "the boats came home in the evening\tsea\nthe nets were full of fish\tsea\n"
    "salt dried on the ropes\tsea\nthe harbour lay still\tsea\nwaves broke on the pier\tsea\n"
    "cows stood in the wet field\tland\nthe plough turned the soil\tland\n"
    "a cart of hay went by\tland\nthe orchard smelled of apples\tland\nsheep grazed on the hill\tland\n";

static ft_model *new_model(uint64_t seed, int threads)
{
    ft_desc desc = {.seed = seed, .threads = threads};
    return ft_create(desc);
}

static ft_node integers(ft_model *m, const char *name, int length)
{
    return ft_input(m, name, (ft_input_options){.type = FT_I32, .size = {length}});
}

static void finish(ft_model *m, ft_node logits, ft_node labels)
{
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, labels, (ft_loss_options){0}));
}

/* A bidirectional LSTM over words, and the texts that it learns. */
static ft_data *classifier(ft_model *m)
{
    ft_data *data = ft_texts(m, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1});
    ft_node tokens = integers(m, "tokens", FT_LENGTH), lengths = integers(m, "lengths", 0), x;
    x = ft_embedding(m, "embedding", tokens, ft_tokenizer_count(ft_get_tokenizer(m)), 12,
                     (ft_embedding_options){0});
    x = ft_lstm(m, "lstm", x, 10, (ft_recurrent_options){.layers = 2, .bidirectional = true,
                                                         .lengths = lengths, .dropout = 0.1f});
    x = ft_step_pool(m, "pool", x, lengths, (ft_step_pool_options){.kind = FT_POOL_MAX});
    finish(m, ft_linear(m, "head", x, 2, (ft_linear_options){0}), integers(m, "labels", 0));
    ft_set_class_names(m, 2, (const char *const[]){"land", "sea"});
    return data;
}

/* A model of which words stand together: each text by itself, its words in ever another order. */
static ft_data *bag_model(ft_model *m, const char *texts, float subsample)
{
    ft_data *data = ft_texts(m, NULL, (ft_text_options){
        .memory = texts, .bytes = strlen(texts), .unlabelled = true, .text_column = "1",
        .shuffle = true, .subsample = subsample});
    ft_node x = integers(m, "tokens", FT_LENGTH);
    int words = ft_tokenizer_count(ft_get_tokenizer(m));
    x = ft_embedding(m, "embedding", x, words, 12, (ft_embedding_options){0});
    x = ft_lstm(m, "lstm", x, 10, (ft_recurrent_options){0});
    x = ft_linear(m, "decoder", x, words, (ft_linear_options){0});
    finish(m, x, integers(m, "labels", FT_LENGTH));
    return data;
}

/* A character model whose state is carried. `text` repeats, so that it can be learnt by heart. */
static ft_data *language_model(ft_model *m, int streams, int steps)
{
    static char text[1600];
    ft_data *data;
    ft_node tokens = integers(m, "tokens", FT_LENGTH), x;
    int i, words;
    for (i = 0; i < 1599; ++i) text[i] = "caf\xc3\xa9 by the sea; "[i % 18];
    data = ft_text_streams(m, NULL, (ft_stream_options){.streams = streams, .steps = steps,
                                                        .memory = text, .bytes = 18 * 88});
    words = ft_tokenizer_count(ft_get_tokenizer(m));
    x = ft_embedding(m, "embedding", tokens, words, 8, (ft_embedding_options){0});
    x = ft_lstm(m, "lstm", x, 24, (ft_recurrent_options){.carry = true});
    finish(m, ft_linear(m, "out", x, words, (ft_linear_options){0}),
           integers(m, "labels", FT_LENGTH));
    return data;
}

static ft_fit_options fast(int epochs)
{
    return (ft_fit_options){.epochs = epochs, .batch_size = 4, .optimizer = {.learning_rate = 0.02f,
                                                                            .clip_norm = 1}};
}

/* ---- Classification ---- */
typedef struct seen { ft_model *m; ft_data *data; int count; } seen;

/* A text alone gives the bits that it gave in a padded batch. */
static void same_alone(void *user, const ft_sample_result *r)
{
    seen *s = (seen *)user;
    const char *text = ft_data_name(s->data, r->index);
    ft_prediction best[2];
    int found = ft_predict_text(s->m, text, strlen(text), best, 2);
    CHECK(found == 2 && best[0].class_index == r->guess
          && memcmp(&best[0].probability, &r->probability, sizeof(float)) == 0,
          "'%s': %.9g alone, %.9g in a batch", text, (double)best[0].probability,
          (double)r->probability);
    CHECK(r->label == ft_data_label(s->data, r->index), "the label of sample %d", r->index);
    s->count += 1;
}

static void test_classifier(void)
{
    static const char path[] = "build/test_text_train.safetensors";
    ft_model *m = new_model(3, 2), *again = new_model(9, 1);
    ft_data *data = classifier(m);
    ft_fit_result r = ft_fit(m, data, fast(40));
    ft_evaluation e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 10});
    seen s;
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(e.correct == 10 && e.total == 10 && r.loss < 0.1, "%d of 10 learnt, loss %g", e.correct,
          r.loss);
    ft_save(m, path, (ft_save_options){0});
    CHECK(ft_load(again, path, (ft_load_options){0}) == FT_OK, "%s", ft_error_text(again));
    s.m = again; /* from one file: the tokeniser and the classes are in it */
    s.count = 0;
    s.data = data;
    ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 7, .sample = same_alone,
                                               .sample_user = &s});
    CHECK(s.count == 10, "%d samples told", s.count);
    CHECK(ft_class_name(again, 1) && !strcmp(ft_class_name(again, 1), "sea"), "the classes");
    CHECK(ft_predict_text(again, "", 0, (ft_prediction[2]){{0, 0}}, 2) == 2, "an empty text: %s",
          ft_error_text(again));
    ft_generate(again, (ft_generate_options){0});
    CHECK(ft_error(again) == FT_INVALID, "a classifier generates nothing");
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

/* The recipe: from scratch all at once; pretrained layers are thawed one by one. */
static char stages[256];

static bool note_stage(void *user, const ft_progress *p)
{
    (void)user;
    if (p->epoch == 0 && p->step == 1 && !p->epoch_done && !p->preparing)
        snprintf(stages + strlen(stages), sizeof stages - strlen(stages), "%s;", p->stage);
    return true;
}

static void find_bag(void *user, const char *line)
{
    if (strstr(line, "to beat")) snprintf((char *)user, 200, "%s", line);
}

/* From scratch the score of a bag of words is said first, on as many texts as the run holds back, or a fifth.
   One word of each text shows its class. */
static void test_bag_of_words(void)
{
    static const struct { float hold_back; const char *says; } rows[] = {
        {0, "bag of words with logistic regression has 12 of 12 held-back texts right (100.0 %)"},
        {0.5f, "30 of 30 held-back texts"}};
    size_t r;
    int i;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        char texts[4000] = "", said[200] = "";
        ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 5, .log = find_bag, .log_user = said});
        ft_data *data;
        for (i = 0; i < 60; ++i)
            snprintf(texts + strlen(texts), 60, "the %s was w%d\t%s\n", i % 2 ? "boat" : "hill", i % 7,
                     i % 2 ? "sea" : "land");
        data = ft_texts(m, NULL, (ft_text_options){.memory = texts, .bytes = strlen(texts)});
        ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 4, .embedding = 4, .classes = 2});
        ft_finetune(m, data, (ft_finetune_options){.most_steps = 1, .hold_back = rows[r].hold_back});
        CHECK(ft_error(m) == FT_OK && strstr(said, rows[r].says), "row %d: \"%s\" %s", (int)r, said,
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* The same as a network: as many held-back texts right, and predicted, saved and loaded like any other. Which of two
   words comes first shows nothing. */
static void test_bag_network(void)
{
    static const char path[] = "build/test_bag.safetensors";
    char texts[6000] = "", said[200] = "";
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 5, .log = find_bag, .log_user = said}), *again;
    ft_network_options o = {.classes = 3, .hidden = 4, .embedding = 4};
    ft_finetune_options how = {.hold_back = 0.25f};
    ft_finetune_result r;
    ft_prediction best[2];
    ft_data *data;
    ft_digest before;
    int i, right = 0;
    for (i = 0; i < 120; ++i) /* one in ten has the wrong class */
        snprintf(texts + strlen(texts), 60, "%s w%d %s\t%s\n", i % 2 ? "the" : i % 3 ? "boat" : "hill", i * i % 11,
                 i % 2 ? i % 3 ? "boat" : "hill" : "the", i % 10 == 7 ? "sky" : i % 3 ? "sea" : "land");
    data = ft_texts(m, NULL, (ft_text_options){.memory = texts, .bytes = strlen(texts)});
    ft_network(m, "lstm_classifier", o);
    how.most_steps = 1;
    ft_finetune(m, data, how); /* which says what a bag of words has right */
    again = ft_create((ft_desc){.threads = 1, .seed = 5});
    data = ft_texts(again, NULL, (ft_text_options){.memory = texts, .bytes = strlen(texts)});
    ft_network(again, "bag_of_words", (ft_network_options){.words = ft_tokenizer_count(ft_get_tokenizer(again)), .classes = 2});
    before = ft_frozen_digest(again);
    r = ft_finetune(again, data, (ft_finetune_options){.hold_back = 0.25f});
    CHECK(ft_error(again) == FT_OK && before.tensors == 0 && strstr(r.choice, "a bag of words"), "\"%s\" %s", r.choice,
          ft_error_text(again));
    snprintf(texts, sizeof texts, "has %d of %d held-back", r.fit.held_back_correct, r.fit.held_back_total);
    CHECK(strstr(said, texts) && r.fit.held_back_total >= 24 && r.fit.held_back_accuracy > 0.8, "%s, not \"%s\"", texts,
          said);
    CHECK(r.fit.accuracy > 0.85 && r.fit.accuracy < 1 && r.fit.loss > 0 && CLOSE(r.fit.held_back_accuracy,
          r.fit.held_back_correct / (double)r.fit.held_back_total, 1e-12), "%g right, loss %g", r.fit.accuracy, r.fit.loss);
    ft_save(again, path, (ft_save_options){0});
    ft_destroy(m);
    m = ft_create((ft_desc){.threads = 1});
    ft_load(m, path, (ft_load_options){0});
    for (i = 0; i < 2; ++i) {
        ft_model *both[2] = {again, m};
        ft_predict_text(both[i], "boat the the", 12, &best[i], 1);
        right += !strcmp(ft_class_name(both[i], best[i].class_index), "sea");
    }
    CHECK(ft_error(m) == FT_OK && right == 2 && best[0].probability == best[1].probability
          && best[0].probability > 0.5f, "%d, %g and %g: %s", right, (double)best[0].probability,
          (double)best[1].probability, ft_error_text(m));
    ft_destroy(m); /* from weights that lie in a mapped file, and must not be written there */
    m = ft_create((ft_desc){.threads = 1});
    ft_load(m, path, (ft_load_options){.weights = {.keep_types = true, .map = true}});
    texts[0] = 0;
    for (i = 0; i < 40; ++i) /* of the same three classes, so that the head stays */
        snprintf(texts + strlen(texts), 60, "the boat w%d\t%s\n", i, i % 3 ? i % 2 ? "sea" : "land" : "sky");
    ft_finetune(m, ft_texts(m, NULL, (ft_text_options){.memory = texts, .bytes = strlen(texts)}), (ft_finetune_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_freeze(again, "*"); /* as what was frozen before any choice of ft_finetune, it is trained */
    r = ft_finetune(again, data, (ft_finetune_options){0});
    CHECK(ft_error(again) == FT_OK && r.fit.before.tensors == 0 && r.fit.after.tensors == 0, "%d frozen: %s",
          r.fit.before.tensors, ft_error_text(again));
    for (i = 0; i < 2; ++i) {
        how = i ? (ft_finetune_options){.most_steps = 1} : (ft_finetune_options){.epochs = 2};
        ft_finetune(again, data, how);
        CHECK(ft_error(again) == FT_INVALID && strstr(ft_error_text(again), i ? "most_steps has no effect"
              : "epochs has no effect"), "%s", ft_error_text(again));
        ft_clear_error(again);
    }
    remove(path);
    ft_destroy(again);
    ft_destroy(m);
}

static void test_recipe(void)
{
    static const char path[] = "build/test_text_train.safetensors";
    ft_finetune_options o = {.epochs = 2, .progress = note_stage};
    ft_model *m = new_model(3, 2), *again = new_model(4, 2);
    ft_data *data = classifier(m);
    ft_finetune_result r = ft_finetune(m, data, o);
    CHECK(ft_error(m) == FT_OK && !strcmp(stages, "all;"), "stages %s (%s)", stages, r.choice);
    CHECK(strstr(r.choice, "random weights; 2 epochs, learning rate 0.003"), "%s", r.choice);
    ft_save(m, path, (ft_save_options){0});
    ft_load(again, path, (ft_load_options){0});
    data = ft_texts(again, NULL, (ft_text_options){.memory = table, .bytes = sizeof table - 1});
    stages[0] = 0;
    r = ft_finetune(again, data, o);
    CHECK(ft_error(again) == FT_OK && !strcmp(stages, "head;top 2;top 3;all;"), "stages %s (%s)",
          stages, r.choice);
    CHECK(strstr(r.choice, "smaller; 2 epochs, learning rate 0.004"), "%s", r.choice);
    CHECK(!ft_node_frozen(again, ft_find(again, "embedding.weight")), "all is thawed at the end");
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

/* A transformer's head comes first; the layers below only if some of the held-back texts are wrong. */
static void test_transformer_recipe(void)
{
    static const struct { ft_finetune_options o; const char *stages, *choice, *settings; } rows[] = {
        {{.epochs = 40, .learning_rate = 0.05f, .progress = note_stage}, "trial;head;", "head only",
         "; 40 epochs, learning rate 0.05"},
        {{.epochs = 1, .progress = note_stage}, "trial;head;all;", "all layers", "; 1 epoch, learning rate 5e-05"},
        {{.epochs = 1, .progress = note_stage, .freeze = "embeddings.*"}, "all;", "as requested",
         " tensors); 1 epoch, learning rate 5e-05"}};
    char texts[2000] = "", before[4], after[4];
    size_t r, at = 0;
    int i;
    for (i = 0; i < 60; ++i) /* the first word says the class */
        at += (size_t)snprintf(texts + at, sizeof texts - at, "%s w%d w%d\t%s\n", i % 2 ? "boats" : "cows",
                               i * 7 % 11, i * 5 % 13, i % 2 ? "sea" : "land");
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r) {
        ft_model *m = new_model(3, 2);
        ft_data *data = ft_texts(m, NULL, (ft_text_options){.memory = texts, .bytes = at});
        ft_finetune_result result;
        float *value;
        ft_network(m, "bert", (ft_network_options){.classes = 2, .hidden = 16, .layers = 1, .heads = 2});
        value = weight_of(m, ft_find(m, "encoder.layer.0.output.dense.weight"));
        memcpy(before, value, sizeof before);
        free(value);
        stages[0] = 0;
        result = ft_finetune(m, data, rows[r].o);
        CHECK(ft_error(m) == FT_OK && !strcmp(stages, rows[r].stages)
              && !strncmp(result.choice, rows[r].choice, strlen(rows[r].choice))
              && strstr(result.choice, rows[r].settings), "stages %s (%s): %s", stages,
              result.choice, ft_error_text(m));
        value = weight_of(m, ft_find(m, "encoder.layer.0.output.dense.weight"));
        memcpy(after, value, sizeof after);
        free(value);
        CHECK((memcmp(before, after, sizeof after) == 0) == (r == 0), "%s: is the layer trained?", rows[r].stages);
        if (r == 0) CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).correct > 57, "the head learnt nothing");
        ft_destroy(m);
    }
}

/* ---- Generation ---- */
typedef struct heard { char text[512]; size_t bytes; int pieces; bool cut; } heard;

/* Whether a text is whole characters of UTF-8: each lead byte is followed by as many others as it
   says, and no other stands anywhere else. */
static bool is_whole(const char *text, size_t bytes)
{
    size_t i, more = 0;
    for (i = 0; i < bytes; ++i) {
        unsigned c = (unsigned char)text[i];
        if ((c & 0xC0) == 0x80) {
            if (more-- == 0) return false;
            continue;
        }
        if (more > 0 || c >= 0xF8) return false;
        more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    }
    return more == 0;
}

static bool hear(void *user, const char *text, size_t bytes)
{
    heard *h = (heard *)user;
    h->cut = h->cut || !is_whole(text, bytes);
    if (h->bytes + bytes < sizeof h->text) memcpy(h->text + h->bytes, text, bytes);
    h->bytes += bytes;
    h->pieces += 1;
    return h->pieces < 60;
}

static heard generate(ft_model *m, ft_generate_options o)
{
    heard h;
    memset(&h, 0, sizeof h);
    o.piece = hear;
    o.piece_user = &h;
    CHECK(ft_generate(m, o) > 0, "%s", ft_error_text(m));
    CHECK(!h.cut, "pieces are whole characters");
    return h;
}

static void test_language_model(void)
{
    ft_model *m = new_model(1, 2);
    ft_data *data = language_model(m, 4, 16);
    ft_evaluation before = ft_evaluate(m, data, (ft_evaluate_options){0}), after, again;
    heard greedy, one, a, b, c;
    ft_fit(m, data, fast(30));
    after = ft_evaluate(m, data, (ft_evaluate_options){0});
    again = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(before.loss > 2.2 && after.loss < 0.15, "%g nats before, %g after", before.loss, after.loss);
    CHECK(after.total == (17 * 88 - 1) / 4 * 4 && after.skipped == 0, "%d tokens, %d skipped",
          after.total, after.skipped);
    CHECK(again.loss == after.loss, "an evaluation begins from zero state");
    greedy = generate(m, (ft_generate_options){.greedy = true, .length = 40, .prompt = "by the "});
    CHECK(!strncmp(greedy.text, "sea; caf\xc3\xa9 by the sea; ", 23), "it goes on with '%s'",
          greedy.text);
    one = generate(m, (ft_generate_options){.top_k = 1, .length = 40, .prompt = "by the "});
    CHECK(!strcmp(one.text, greedy.text), "top_k 1 is greedy");
    one = generate(m, (ft_generate_options){.top_p = 1e-6f, .length = 40, .prompt = "by the "});
    CHECK(!strcmp(one.text, greedy.text), "a very small top_p is greedy");
    one = generate(m, (ft_generate_options){.top_p = 1, .temperature = 0.01f, .length = 40, .prompt = "by the "});
    CHECK(!strcmp(one.text, greedy.text), "top_p 1 leaves all tokens");
    one = generate(m, (ft_generate_options){.temperature = 0.01f, .length = 40, .prompt = "by the "});
    CHECK(!strcmp(one.text, greedy.text), "so is a low temperature");
    a = generate(m, (ft_generate_options){.temperature = 3, .length = 40, .seed = 1});
    b = generate(m, (ft_generate_options){.temperature = 3, .length = 40, .seed = 1});
    c = generate(m, (ft_generate_options){.temperature = 3, .length = 40, .seed = 2});
    CHECK(!strcmp(a.text, b.text) && strcmp(a.text, c.text), "the seed decides: '%s', '%s', '%s'",
          a.text, b.text, c.text);
    a = generate(m, (ft_generate_options){.length = 500});
    CHECK(a.pieces == 60, "the caller ends it: %d pieces", a.pieces);
    ft_fit(m, data, (ft_fit_options){.hold_back = 0.1f});
    CHECK(ft_error(m) == FT_INVALID, "nothing of a stream is held back");
    ft_destroy(m);
}

/* Learnt in every order, the words of a text come in one never seen as probably as they can: three
   are left after the first, two after the second, one after the third: (ln 3 + ln 2 + 0) / 3.
   A model that learnt the one order does not expect another. */
static void test_shuffled(void)
{
    static const char texts[] = "a b c d\t0\ne f g h\t0\na b c d\t0\ne f g h\t0\n";
    static const char reversed[] = "d c b a\t0\nh g f e\t0\n";
    double loss[2];
    int shuffled;
    for (shuffled = 0; shuffled < 2; ++shuffled) {
        ft_model *m = new_model(2, 1);
        ft_data *data = bag_model(m, texts, 0), *other;
        ft_fit_options o = fast(800);
        o.augment = shuffled == 1;
        o.schedule = FT_COSINE;
        ft_fit(m, data, o);
        other = ft_texts(m, NULL, (ft_text_options){
            .memory = reversed, .bytes = sizeof reversed - 1, .unlabelled = true, .text_column = "1",
            .shuffle = true});
        loss[shuffled] = ft_evaluate(m, other, (ft_evaluate_options){0}).loss;
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    CHECK(CLOSE(loss[1], (log(3) + log(2)) / 3, 0.1) && loss[0] > 2, "%g nats, %g in one order",
          loss[1], loss[0]);
}

/* A language model that always says these logits, of the characters a, b, c, d. */
static ft_model *constant_model(const float logits[4])
{
    static const char *const texts[] = {"aaaabbbccd"};
    static const float zeros[4];
    ft_model *m = new_model(1, 1);
    ft_node x = integers(m, "tokens", FT_LENGTH);
    ft_set_tokenizer(m, ft_tokenizer_build(m, FT_CHARACTERS, texts, 1, (ft_vocabulary_options){0}));
    x = ft_embedding(m, "embedding", x, 4, 1, (ft_embedding_options){0});
    x = ft_linear(m, "out", x, 4, (ft_linear_options){0});
    ft_set(m, ft_find(m, "out.weight"), zeros, 4);
    ft_set(m, ft_find(m, "out.bias"), logits, 4);
    finish(m, x, integers(m, "labels", FT_LENGTH));
    return m;
}

static bool count_letters(void *user, const char *text, size_t bytes)
{
    int *counts = (int *)user;
    size_t i;
    for (i = 0; i < bytes; ++i)
        if (text[i] >= 'a' && text[i] <= 'd') counts[text[i] - 'a'] += 1;
    return true;
}

static void draw(ft_model *m, ft_generate_options o, int counts[4])
{
    memset(counts, 0, 4 * sizeof *counts);
    o.prompt = "a";
    o.temperature = 2;
    o.piece = count_letters;
    o.piece_user = counts;
    CHECK(ft_generate(m, o) == o.length, "%s", ft_error_text(m));
}

/* Of the logits 0, 1, 2, 3 each token comes as often as softmax(logits / temperature) says. */
static void test_draws(void)
{
    const float logits[4] = {0, 2, 1, 3};
    ft_model *m = constant_model(logits);
    int counts[4], i;
    draw(m, (ft_generate_options){.length = 20000}, counts);
    for (i = 0; i < 4; ++i) {
        double share = exp(logits[i] / 2.0) / (1 + exp(1) + exp(0.5) + exp(1.5));
        CHECK(CLOSE(counts[i] / 20000.0, share, 0.012), "token %d: %g, not %g", i,
              counts[i] / 20000.0, share);
    }
    draw(m, (ft_generate_options){.length = 1000, .top_k = 2}, counts);
    CHECK(counts[0] == 0 && counts[2] == 0 && counts[1] > 200 && counts[3] > 200,
          "only the two most probable");
    /* the first has 0.45: the second is needed too */
    draw(m, (ft_generate_options){.length = 1000, .top_p = 0.5f}, counts);
    CHECK(counts[0] == 0 && counts[2] == 0 && counts[1] > 200 && counts[3] > 200,
          "only those that make up a half");
    ft_destroy(m);
}

/* ---- Killed and resumed ---- */
static int kill_at, steps_seen;

static bool killing(void *user, const ft_progress *p)
{
    (void)user;
    if (!p->epoch_done && !p->preparing && ++steps_seen == kill_at) kill(getpid(), SIGKILL);
    return true;
}

typedef enum kind { STREAM, TEXTS, BAG } kind;
static const char *const kinds[] = {"a stream", "texts", "shuffled texts"};

static void run(kind what, const char *checkpoint, const char *out, int threads)
{
    ft_model *m = new_model(11, threads);
    ft_data *data = what == STREAM ? language_model(m, 4, 16) : what == TEXTS ? classifier(m)
        : bag_model(m, table, 0.05f);
    ft_finetune_options o = {.epochs = 3, .checkpoint = checkpoint, .checkpoint_steps = 2,
                             .batch_size = 4, .progress = killing};
    ft_fit_options fit = {.epochs = 3, .checkpoint = checkpoint, .checkpoint_steps = 2,
                          .batch_size = 4, .progress = killing, .augment = true};
    if (what == BAG) ft_fit(m, data, fit);
    else ft_finetune(m, data, o);
    ft_save(m, out, (ft_save_options){0});
    if (ft_error(m)) fprintf(stderr, "%s\n", ft_error_text(m));
    ft_destroy(m);
}

static bool same_file(const char *a, const char *b)
{
    FILE *one = fopen(a, "rb"), *two = fopen(b, "rb");
    bool same = one && two;
    int byte = 0;
    while (same && byte != EOF) {
        byte = getc(one);
        same = byte == getc(two);
    }
    if (one) fclose(one);
    if (two) fclose(two);
    return same;
}

static void test_killed(kind what)
{
    static const char whole[] = "build/test_text_whole.safetensors";
    static const char part[] = "build/test_text_part.safetensors";
    static const char checkpoint[] = "build/test_text.checkpoint";
    int when, status;
    remove(checkpoint);
    kill_at = steps_seen = 0;
    run(what, checkpoint, whole, 1);
    CHECK(steps_seen > 20 || what != STREAM, "%d steps in all", steps_seen);
    for (when = 2; when < (what == STREAM ? 60 : 9); when = when * 2 + 1) {
        pid_t child;
        remove(checkpoint);
        remove(part);
        fflush(stdout);
        child = fork();
        if (child == 0) {
            kill_at = when;
            steps_seen = 0;
            run(what, checkpoint, part, 1);
            _exit(0);
        }
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status), "killed at step %d", when);
        kill_at = 0;
        run(what, checkpoint, part, 2);
        CHECK(same_file(whole, part), "%s: killed at step %d, another end", kinds[what], when);
    }
    remove(whole);
    remove(part);
    remove(checkpoint);
}

/* A classifier is not trained on a stream, whose labels would be left out without a word. */
static void test_stream_for_a_classifier(void)
{
    ft_model *m = new_model(1, 1);
    ft_data *stream;
    classifier(m);
    stream = ft_text_streams(m, NULL, (ft_stream_options){.memory = "good day, bad day, good night",
                                                         .bytes = 29, .streams = 2, .steps = 2});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_fit(m, stream, (ft_fit_options){.epochs = 1});
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "language models"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    ft_fit(m, stream, (ft_fit_options){.epochs = 1, .batch_size = 8});
    CHECK(ft_error(m) && strstr(ft_error_text(m), "batch_size has no effect here"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    test_classifier();
    test_recipe();
    test_bag_of_words();
    test_bag_network();
    test_transformer_recipe();
    test_language_model();
    test_draws();
    test_shuffled();
    test_stream_for_a_classifier();
    test_killed(STREAM);
    test_killed(TEXTS);
    test_killed(BAG);
    return check_done("test_text_train");
}
