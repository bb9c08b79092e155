/* char_rnn.c - a character model learns a second author.

   A language model reads characters and predicts the next one. A model of one author knows much
   that holds for another too: letters, words, where a sentence ends. Here a small LSTM first learns
   sentences about a harbour (examples/text/harbour.txt), then the few sentences of a cook
   (kitchen.txt). For comparison the same network learns the cook from scratch in as many steps.

     build/char_rnn
     build/char_rnn WEIGHTS VOCABULARY TEXT     pretrained weights, such as charrnn_shakespeare's:
                                                embedding, lstm, out; TEXT is plain, or a .tsv */
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

static const char pretrained[] = "build/char_rnn.safetensors";

/* Embedding, two LSTM layers whose state is carried between batches, a logit for each character. */
static void build(ft_model *m, int size)
{
    ft_input_options steps = {.type = FT_I32, .size = {FT_LENGTH}};
    int characters = ft_tokenizer_count(ft_get_tokenizer(m));
    ft_node tokens = ft_input(m, "tokens", steps), labels = ft_input(m, "labels", steps);
    ft_node x = ft_embedding(m, "embedding", tokens, characters, size, (ft_embedding_options){0});
    x = ft_lstm(m, "lstm", x, size, (ft_recurrent_options){.layers = 2, .carry = true});
    x = ft_linear(m, "out", x, characters, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
}

static bool print_piece(void *user, const char *text, size_t bytes)
{
    (void)user;
    fwrite(text, 1, bytes, stdout);
    return true;
}

static void sample(ft_model *m, const char *title)
{
    printf("%s:\n---\n", title);
    ft_generate(m, (ft_generate_options){.length = 200, .temperature = 0.7f, .seed = 4,
                                         .piece = print_piece});
    printf("\n---\n");
}

static ft_data *open_text(ft_model *m, const char *path)
{
    size_t length = strlen(path);
    bool table = length > 4 && !strcmp(path + length - 4, ".tsv");
    return ft_text_streams(m, path, (ft_stream_options){.streams = 16, .steps = 48,
                                                        .text_column = table ? "1" : NULL});
}

/* The vocabulary must hold the characters of both authors, so it is built from both texts. */
static void make_vocabulary(ft_model *m)
{
    static char texts[2][1 << 16];
    static const char *const names[] = {"examples/text/harbour.txt", "examples/text/kitchen.txt"};
    const char *both[2] = {texts[0], texts[1]};
    int i;
    for (i = 0; i < 2; ++i) {
        FILE *file = fopen(names[i], "rb");
        if (!file) continue;
        texts[i][fread(texts[i], 1, sizeof texts[i] - 1, file)] = 0;
        fclose(file);
    }
    ft_set_tokenizer(m, ft_tokenizer_build(m, FT_CHARACTERS, both, 2, (ft_vocabulary_options){0}));
}

/* Makes the pretrained model, which you would otherwise download. */
static int pretrain(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_fit_result r;
    make_vocabulary(m);
    build(m, 64);
    r = ft_finetune(m, open_text(m, "examples/text/harbour.txt"), (ft_finetune_options){
        .epochs = 12, .learning_rate = 0.01f}).fit;
    ft_save(m, pretrained, (ft_save_options){0});
    printf("pretrained on the harbour: %.3f nats a character\n", r.loss);
    if (ft_error(m)) puts(ft_error_text(m));
    return ft_error(m) ? (ft_destroy(m), 1) : (ft_destroy(m), 0);
}

/* Learns the new author; returns the loss on the text learnt last, in nats per character. */
static double learn(const char *weights, const char *vocabulary, const char *text, bool scratch)
{
    ft_model *m = ft_create((ft_desc){.seed = 2});
    ft_data *data;
    ft_evaluation e;
    if (vocabulary) {
        ft_set_tokenizer(m, ft_tokenizer_load(m, vocabulary, (ft_tokenizer_options){0}));
        build(m, 128);
        ft_load_weights(m, weights, (ft_weights_options){0});
    } else ft_load(m, weights, (ft_load_options){0});
    if (scratch) ft_initialise(m, "*", FT_INIT_DEFAULT);
    data = open_text(m, text);
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    if (!scratch) sample(m, "before");
    printf("%s: %.3f nats a character before", scratch ? "from scratch" : "fine-tuned", e.loss);
    fflush(stdout);
    ft_finetune(m, data, (ft_finetune_options){.epochs = 8, .learning_rate = 0.005f});
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    printf(", %.3f after (perplexity %.2f)\n", e.loss, exp(e.loss));
    if (!scratch) sample(m, "after");
    if (ft_error(m)) {
        puts(ft_error_text(m));
        e.loss = HUGE_VAL;
    }
    ft_destroy(m);
    return e.loss;
}

int main(int count, char **words)
{
    const char *weights = count > 3 ? words[1] : pretrained;
    const char *vocabulary = count > 3 ? words[2] : NULL;
    const char *text = count > 3 ? words[3] : "examples/text/kitchen.txt";
    double tuned, scratch;
    if (count > 3 ? 0 : pretrain()) return 1;
    tuned = learn(weights, vocabulary, text, false);
    scratch = learn(weights, vocabulary, text, true);
    printf("after the same number of steps: %.3f nats fine-tuned, %.3f from scratch\n", tuned, scratch);
    return tuned < scratch ? 0 : 1;
}
