/* digests.c - shows whether a change of finetune.h changed any bit of its results.

     make digests               prints the lines
     build/digests [THREADS]    the same with this many threads (default 2), which makes no difference

   Six networks, one of them twice, are trained for a few steps on made-up data, with the CPU's best
   SIMD level and with plain C. A line has a network's name, the level, and a digest: of all weights
   and statistics after the training, or of the logits that the network then computes. A change that
   must not change bits leaves every line as it was: keep the earlier lines and compare. They depend
   on the machine and the compiler, so none are stored. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
#include "formula.h"

enum { STEPS = 3, BATCH = 4, SIDE = 64, LENGTH = 20, CLASSES = 10, WORDS = 65 };

typedef struct network {
    const char *line, *name;
    const char *trained; /* a glob: the rest is frozen; NULL: nothing is */
    ft_network_options options;
} network;

static const network networks[] = {
    {"resnet18", "resnet18", NULL, {.classes = CLASSES, .image_size = SIDE}},
    {"resnet18_layer4", "resnet18", "layer4.*,fc.*", {.classes = CLASSES, .image_size = SIDE}},
    {"resnet20", "resnet20", NULL, {.classes = CLASSES}},
    {"mobilenet_v1", "mobilenet_v1", NULL,
     {.classes = CLASSES, .image_size = SIDE, .width = 0.5f}},
    {"keras_cnn", "keras_cnn", NULL, {.classes = CLASSES}},
    {"lstm_classifier", "lstm_classifier", NULL,
     {.classes = CLASSES, .words = WORDS, .embedding = 40, .hidden = 48, .layers = 2,
      .bidirectional = true, .pooling = FT_POOL_ALL, .dropout = 0.25f}},
    {"char_rnn", "char_rnn", NULL, {.words = WORDS}},
};

static void stop_at_error(const ft_model *m, const char *line)
{
    if (ft_error(m) == FT_OK) return;
    printf("%s: %s\n", line, ft_error_text(m));
    exit(1);
}

/* The numbers that a node has in a run, or always. */
static size_t numbers_of(const ft_model *m, ft_node node)
{
    ft_shape shape = ft_node_shape(m, node);
    size_t count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d)
        count *= (size_t)(shape.size[d] == FT_BATCH ? BATCH : shape.size[d] == FT_LENGTH
                          ? ft_length(m) : shape.size[d]);
    return count;
}

/* Fills an input, where the network has it: low <= value < high. */
static void feed(ft_model *m, const char *name, int step, double low, double high)
{
    static float values[BATCH * 3 * SIDE * SIDE];
    static int32_t integers[BATCH * LENGTH];
    ft_node input = ft_find(m, name);
    bool real = strcmp(name, "input") == 0;
    char seed[32];
    size_t count, i;
    if (!input.id) return;
    count = numbers_of(m, input);
    snprintf(seed, sizeof seed, "%s %d", name, step);
    by_formula(seed, values, count, low, high - 0.001);
    for (i = 0; !real && i < count; ++i) integers[i] = (int32_t)values[i];
    ft_feed(m, input, real ? (const void *)values : integers, BATCH);
}

/* Texts are a little shorter in each step than in the one before. */
static void feed_all(ft_model *m, int step)
{
    ft_set_length(m, LENGTH - 3 * step);
    feed(m, "input", step, -1, 1);
    feed(m, "tokens", step, 0, WORDS);
    feed(m, "lengths", step, 1, ft_length(m) + 1);
    feed(m, "labels", step, 0, CLASSES);
}

static uint64_t digest_node(ft_model *m, ft_node node, uint64_t digest) /* by FNV-1a */
{
    size_t count = numbers_of(m, node), i;
    float *values = (float *)calloc(count, sizeof *values);
    const unsigned char *bytes = (const unsigned char *)values;
    if (!values) exit(1);
    ft_get(m, node, values, count);
    for (i = 0; i < count * sizeof *values; ++i) digest = (digest ^ bytes[i]) * 0x100000001B3u;
    free(values);
    return digest;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of the bytes of all parameters and buffers, in the order of their names. */
static uint64_t digest_weights(ft_model *m, uint64_t digest)
{
    const char **names = (const char **)calloc((size_t)ft_node_count(m), sizeof *names);
    size_t count = 0, i;
    ft_node node;
    if (!names) exit(1);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *op = ft_node_operator(m, node);
        bool kept = strcmp(op, "parameter") == 0 || strcmp(op, "buffer") == 0;
        if (kept) names[count++] = ft_node_name(m, node);
    }
    qsort(names, count, sizeof *names, by_name);
    for (i = 0; i < count; ++i) digest = digest_node(m, ft_find(m, names[i]), digest);
    free(names);
    return digest;
}

static void run(const network *n, const char *simd, int threads)
{
    const uint64_t start = 0xCBF29CE484222325u;
    ft_desc desc = {.seed = 1, .threads = threads, .simd = simd};
    ft_optimizer_options optimizer = {.optimizer = FT_ADAMW, .weight_decay = 0.01f, .clip_norm = 1};
    ft_model *m = ft_create(desc);
    uint64_t weights, logits;
    int step;
    stop_at_error(m, n->line);
    ft_network(m, n->name, n->options);
    if (n->trained) ft_freeze(m, "*");
    if (n->trained) ft_unfreeze(m, n->trained);
    ft_set_optimizer(m, optimizer);
    for (step = 0; step < STEPS; ++step) {
        feed_all(m, step);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    stop_at_error(m, n->line);
    weights = digest_weights(m, start);
    feed_all(m, 0);
    ft_forward(m, false);
    logits = digest_node(m, ft_output(m), start);
    stop_at_error(m, n->line);
    simd = simd ? simd : "best";
    printf("%-15s weights %s %016llx\n", n->line, simd, (unsigned long long)weights);
    printf("%-15s logits  %s %016llx\n", n->line, simd, (unsigned long long)logits);
    ft_destroy(m);
}

int main(int count, char **words)
{
    const size_t networks_count = sizeof networks / sizeof networks[0];
    int threads = count > 1 ? atoi(words[1]) : 2;
    size_t i;
    for (i = 0; i < networks_count; ++i) run(&networks[i], NULL, threads);
    for (i = 0; i < networks_count; ++i) run(&networks[i], "none", threads);
    return 0;
}
