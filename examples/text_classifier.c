/* text_classifier.c - what unlabelled texts are good for (ULMFiT, Howard and Ruder 2018).

   Labels are expensive, text is not. A language model first reads all texts of
   examples/text/reviews.tsv without their labels. Then its embedding and LSTM get a new head, and
   24 labelled texts train the rest: first the head, then one more layer at a time. For comparison
   the same network learns from the 24 labels alone. Both are scored on 300 texts that neither has
   seen.

     build/text_classifier
     build/text_classifier TRAIN.tsv TEST.tsv LABELS     your own: text, tab, label; how many per class */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { SIZE = 64 };
static const char language_model[] = "build/text_classifier.safetensors";
static const ft_vocabulary_options words_kept = {.minimum_count = 2};

static ft_node integers(ft_model *m, const char *name, int length)
{
    return ft_input(m, name, (ft_input_options){.type = FT_I32, .size = {length}});
}

/* The layers that both networks share; they have the same names, so weights load by name. */
static ft_node encoder(ft_model *m, ft_node lengths)
{
    int words = ft_tokenizer_count(ft_get_tokenizer(m));
    ft_node x = ft_embedding(m, "embedding", integers(m, "tokens", FT_LENGTH), words, SIZE,
                             (ft_embedding_options){0});
    x = ft_dropout(m, "embedding_dropout", x, (ft_dropout_options){.probability = 0.2f});
    return ft_lstm(m, "lstm", x, SIZE, (ft_recurrent_options){.lengths = lengths,
                                                              .carry = lengths.id == 0});
}

static void finish(ft_model *m, ft_node logits, ft_node labels)
{
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, labels, (ft_loss_options){0}));
}

/* Reads the texts and learns to predict the next word. */
static bool read_texts(const char *path)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_data *text = ft_text_streams(m, path, (ft_stream_options){
        .text_column = "1", .streams = 8, .steps = 32, .vocabulary_kind = FT_WORDS,
        .vocabulary = words_kept});
    ft_node none = {0}, x = encoder(m, none);
    ft_finetune_result r;
    x = ft_linear(m, "next_word", x, ft_tokenizer_count(ft_get_tokenizer(m)), (ft_linear_options){0});
    finish(m, x, integers(m, "labels", FT_LENGTH));
    r = ft_finetune(m, text, (ft_finetune_options){.epochs = 20, .learning_rate = 0.01f});
    ft_save(m, language_model, (ft_save_options){0});
    printf("language model: %.3f nats a word\n", r.fit.loss);
    if (ft_error(m)) puts(ft_error_text(m));
    none.id = ft_error(m);
    ft_destroy(m);
    return none.id == 0;
}

/* Uses the language model's tokeniser, so that a word has the same id in both networks. */
static void take_tokenizer(ft_model *m)
{
    ft_file *file = ft_file_open(m, language_model, (ft_weights_options){0});
    const char *json = file ? ft_file_metadata(file, "tokenizer") : NULL;
    if (json)
        ft_set_tokenizer(m, ft_tokenizer_load(m, NULL, (ft_tokenizer_options){
            .memory = json, .bytes = strlen(json)}));
    if (file) ft_file_close(file);
}

typedef struct mistake { ft_sample_result worst; } mistake;

static void note_worst(void *user, const ft_sample_result *r)
{
    mistake *m = (mistake *)user;
    if (r->guess != r->label && r->probability > m->worst.probability) m->worst = *r;
}

/* Learns from a few labels, with or without the language model's weights; returns the accuracy. */
static double classify(const char *train, const char *test, int labels, bool pretrained)
{
    static const char *const names[] = {"last", "mean", "max"};
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_data *few, *unseen;
    ft_node lengths, pooled[3], x;
    ft_evaluation e;
    mistake worst;
    int k;
    memset(&worst, 0, sizeof worst);
    take_tokenizer(m);
    few = ft_texts(m, train, (ft_text_options){.per_class = labels});
    lengths = integers(m, "lengths", 0);
    x = encoder(m, lengths);
    for (k = 0; k < 3; ++k)
        pooled[k] = ft_step_pool(m, names[k], x, lengths,
                                 (ft_step_pool_options){.kind = (ft_step_pooling)k});
    x = ft_concat(m, "pooled", 3, pooled, 1);
    finish(m, ft_linear(m, "head", x, 2, (ft_linear_options){0}), integers(m, "labels", 0));
    if (pretrained)
        ft_load_weights(m, language_model, (ft_weights_options){.allow_missing = true,
                                                                .allow_unexpected = true});
    ft_finetune(m, few, (ft_finetune_options){0});
    unseen = ft_texts(m, test, (ft_text_options){0});
    e = ft_evaluate(m, unseen, (ft_evaluate_options){.sample = note_worst, .sample_user = &worst});
    printf("%s, %d labels: %d of %d right (95 %% interval %.1f to %.1f %%)\n",
           pretrained ? "after the language model" : "from scratch", ft_data_count(few), e.correct,
           e.total, 100 * e.low, 100 * e.high);
    if (worst.worst.probability > 0)
        printf("  its worst mistake: \"%s\" is %s, predicted as %s\n",
               ft_data_name(unseen, worst.worst.index), ft_data_class_name(unseen, worst.worst.label),
               ft_data_class_name(unseen, worst.worst.guess));
    if (ft_error(m)) puts(ft_error_text(m));
    ft_destroy(m);
    return e.accuracy;
}

int main(int count, char **words)
{
    const char *train = count > 2 ? words[1] : "examples/text/reviews.tsv";
    const char *test = count > 2 ? words[2] : "examples/text/reviews_test.tsv";
    int labels = count > 3 ? atoi(words[3]) : 12;
    double scratch, tuned;
    if (!read_texts(train)) return 1;
    scratch = classify(train, test, labels, false);
    tuned = classify(train, test, labels, true);
    return tuned > scratch ? 0 : 1;
}
