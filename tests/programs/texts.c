/* texts.c - trains a small LSTM on labelled sentences, scores it, saves, loads, predicts, and fails.
     cc -std=c99 -O2 -I. tests/programs/texts.c build/finetune.o -o build/texts -lm -pthread */
#include <stdio.h>
#include <string.h>
#include "finetune.h"
#define TEXTS "examples/text/"
static void say(void *user, const char *line) { (void)user; printf("  [log] %s\n", line); }
static ft_text_options table(bool match)
{
    return (ft_text_options){.text_column = "1", .label_column = "2", .header = FT_HEADER_NO,
                             .vocabulary = {.minimum_count = 2}, .match_classes = match};
}
static void predict(ft_model *m, const char *text)
{
    ft_prediction best = {0};
    if (ft_predict_text(m, text, strlen(text), &best, 1) == 1)
        printf("\"%s\": %s, %.0f %%\n", text, ft_class_name(m, best.class_index), 100 * (double)best.probability);
}
static void tell(const char *what, ft_model *m)
{
    printf("%s: %s: %s\n", what, ft_status_name(ft_error(m)), ft_error_text(m));
    ft_clear_error(m);
}
int main(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1, .log = say});
    ft_data *train = ft_texts(m, TEXTS "reviews.tsv", table(false));
    ft_network(m, "lstm_classifier", (ft_network_options){
        .classes = ft_data_classes(train), .words = ft_tokenizer_count(ft_get_tokenizer(m)),
        .embedding = 64, .hidden = 64, .pooling = FT_POOL_MAX, .dropout = 0.3f});
    ft_finetune_result r = ft_finetune(m, train, (ft_finetune_options){.epochs = 10, .learning_rate = 0.005f});
    ft_evaluation e = ft_evaluate(m, ft_texts(m, TEXTS "reviews_test.tsv", table(true)), (ft_evaluate_options){0});
    ft_save(m, "build/opinions.safetensors", (ft_save_options){0});
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    printf("%s\n%d epochs, loss %.3f; %d of %d right (%.1f to %.1f %%), skipped %d\n", r.choice, r.fit.epochs, r.fit.loss,
           e.correct, e.total, 100 * e.low, 100 * e.high, e.skipped);
    ft_destroy(m);

    m = ft_create((ft_desc){.log = say});
    ft_load(m, "build/opinions.safetensors", (ft_load_options){0});
    predict(m, "a warm and funny film with a wonderful cast");
    predict(m, "dull , lifeless and far too long");
    predict(m, "it is neither good nor bad");
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    ft_texts(m, TEXTS "nothing.tsv", table(true));
    tell("a wrong path", m);
    ft_texts(m, TEXTS "reviews_test.tsv", (ft_text_options){.text_column = "sentence", .label_column = "label"});
    tell("a wrong column", m);
    ft_destroy(m);
    m = ft_create((ft_desc){.log = say});
    ft_load(m, "build/nothing.safetensors", (ft_load_options){0});
    tell("a wrong model path", m);
    ft_destroy(m);
    ft_texts(NULL, TEXTS "reviews_test.tsv", table(true));
    predict(NULL, "nobody listens");
    tell("a NULL model", NULL);
    ft_destroy(NULL);
    return 0;
}
