/* bench.c - times one piece of work with finetune.h and prints one line of JSON.
     build/bench WORK [SECONDS] [--threads N] [--simd LEVEL] [--operators] [--check DIRECTORY]
   WORK as in bench/run.py. --operators also prints what every operator took; --check compares the
   logits with those of another library (bench/peers.py export) instead. Else the values are drawn
   at random, and no file is read. */
#define _POSIX_C_SOURCE 200809L
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

#include <sys/resource.h>
#include <time.h>

static double now(void *user)
{
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct work {
    const char *name, *network;
    int batch;
    bool training;
    const char *freeze, *unfreeze; /* globs, in this order; NULL: none */
    const char *precision;
    int length;                 /* steps of a sequence of token ids; 0: pictures or vectors */
} work;

static const work works[] = {
    {"resnet18_whole", "resnet18", 16, true, NULL, NULL, NULL, 0},
    {"resnet18_bf16", "resnet18", 16, true, NULL, NULL, "bf16", 0},
    {"resnet18_layer4", "resnet18", 16, true, "*", "layer4.*", NULL, 0},
    {"resnet18_inference_16", "resnet18", 16, false, NULL, NULL, NULL, 0},
    {"resnet18_inference_1", "resnet18", 1, false, NULL, NULL, NULL, 0},
    {"keras_cnn", "keras_cnn", 32, true, NULL, NULL, NULL, 0},
    {"mobilenet_whole", "mobilenet_v1", 16, true, NULL, NULL, NULL, 0},
    {"mobilenet_inference_1", "mobilenet_v1", 1, false, NULL, NULL, NULL, 0},
    {"mlp", NULL, 32, true, NULL, NULL, NULL, 0},
    {"lstm_classifier", "lstm_classifier", 32, true, NULL, NULL, NULL, 100},
    {"char_rnn_generate", "char_rnn", 1, false, NULL, NULL, NULL, 1}};

static void build(ft_model *m, const work *w)
{
    ft_network_options o;
    memset(&o, 0, sizeof o);
    if (w->network) {
        if (strcmp(w->network, "mobilenet_v1") == 0) o.width = 0.25f;
        if (strcmp(w->network, "lstm_classifier") == 0) o.layers = 2; /* 2 x 256 behind 128 */
        ft_network(m, w->network, o);
    } else {
        ft_input_options pixels = {.size = {784}}, labels = {.type = FT_I32};
        ft_linear_options linear = {0};
        ft_activation_options none = {0};
        ft_loss_options loss = {0};
        ft_node x = ft_input(m, "input", pixels);
        x = ft_activation(m, "relu", "relu", ft_linear(m, "fc1", x, 128, linear), none);
        x = ft_linear(m, "fc2", x, 10, linear);
        ft_set_output(m, x);
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", labels), loss));
    }
    if (w->length) ft_set_length(m, w->length);
    if (w->freeze) ft_freeze(m, w->freeze);
    if (w->unfreeze) {
        ft_unfreeze(m, w->unfreeze);
        ft_unfreeze(m, "fc.*");
    }
}

static float *random_numbers(size_t count)
{
    float *numbers = (float *)malloc(count * sizeof *numbers);
    unsigned state = 1;
    size_t i;
    if (!numbers) exit(1);
    for (i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        numbers[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    return numbers;
}

/* The bits of token ids, where numbers are expected; as bench/peers.py makes them. */
static float *some_tokens(size_t count, int words)
{
    float *numbers = random_numbers(count);
    size_t i;
    for (i = 0; i < count; ++i) {
        int32_t id = (int32_t)((i * 7919 + 13) % (size_t)words);
        memcpy(&numbers[i], &id, sizeof id);
    }
    return numbers;
}

static void print_operators(const ft_model *m, double steps)
{
    int i;
    for (i = 1; i <= ft_node_count(m); ++i) {
        ft_node node = {i};
        ft_time t = ft_node_time(m, node);
        if (t.forward + t.backward > 0)
            fprintf(stderr, "%9.3f ms forward %9.3f ms backward  %-16s %s\n",
                    1e3 * t.forward / steps, 1e3 * t.backward / steps, ft_node_operator(m, node),
                    ft_node_name(m, node));
    }
}

/* One step: what a training loop does, or a prediction. */
static void step(ft_model *m, const work *w, float *values, const int *labels, float *logits)
{
    if (!w->training) {
        ft_run(m, values, w->batch, logits);
        if (w->length) { /* the most probable character is the next input */
            int32_t next = ft__largest(logits, ft_node_shape(m, ft_output(m)).size[2]);
            memcpy(values, &next, sizeof next);
        }
        return;
    }
    ft_feed(m, ft_find(m, w->length ? "tokens" : "input"), values, w->batch);
    if (w->length) ft_feed(m, ft_find(m, "lengths"), labels + w->batch, w->batch);
    ft_feed(m, ft_find(m, "labels"), labels, w->batch);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 1e-4f);
}

/* out [m, n] = a [m, k] b [k, n], over and over; prints GFLOP a second. */
static int multiply(ft_model *m, const char *name, double seconds)
{
    size_t rows = 0, columns = 0, k = 0;
    double start, took;
    float *a, *b, *out, *workspace;
    int steps = 0;
    sscanf(name, "gemm_%zu_%zu_%zu", &rows, &columns, &k);
    if (rows * columns * k == 0) return 2;
    a = random_numbers(rows * k);
    b = random_numbers(k * columns);
    out = random_numbers(rows * columns);
    workspace = random_numbers(ft__gemm_workspace(&m->context, k));
    start = now(NULL);
    do {
        ft__gemm_parallel(&m->context, rows, columns, k, ft__rows_of(a, k),
                          ft__rows_of(b, columns), out, columns, false, workspace);
        if (steps == 0) start = now(NULL);
        took = now(NULL) - start;
        steps += 1;
    } while (took < seconds);
    printf("{\"work\": \"%s\", \"per_second\": %.2f, \"resident_mb\": 0, \"first_step\": 0}\n",
           name, 2e-9 * (double)(rows * columns * k) * (steps - 1) / took);
    free(a);
    free(b);
    free(out);
    free(workspace);
    return 0;
}

static float *read_numbers(const char *directory, const char *name, size_t count)
{
    char path[700];
    float *numbers = random_numbers(count);
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "rb");
    if (!file || fread(numbers, sizeof *numbers, count, file) != count) {
        fprintf(stderr, "%s: wants %zu numbers\n", path, count);
        exit(1);
    }
    fclose(file);
    return numbers;
}

/* How far the logits are from the other library's, as a share of the largest. */
static int compare(ft_model *m, const work *w, const char *directory, size_t sample)
{
    ft_weights_options strict = {0};
    ft_shape shape;
    char path[700];
    size_t i, count;
    float *input, *want, *got;
    double worst = 0, largest = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    ft_load_weights(m, path, strict);
    shape = ft_node_shape(m, ft_output(m));
    count = (size_t)shape.size[shape.rank - 1] * (size_t)w->batch;
    input = read_numbers(directory, "input.bin", sample * (size_t)w->batch);
    want = read_numbers(directory, "logits.bin", count);
    got = random_numbers(count);
    ft_run(m, input, w->batch, got);
    for (i = 0; i < count; ++i) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= worst)) worst = off;
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    }
    if (ft_error(m) != FT_OK) fprintf(stderr, "%s\n", ft_error_text(m));
    else printf("{\"work\": \"%s\", \"off\": %g}\n", w->name, worst / largest);
    free(input);
    free(want);
    free(got);
    return ft_error(m) != FT_OK;
}

int main(int argc, char **argv)
{
    double seconds = 3, start, took, first, begin = now(NULL);
    const work *w = NULL;
    const char *gemm = NULL, *check = NULL;
    ft_desc desc = {0};
    ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-4f};
    struct rusage usage;
    bool operators = false;
    int i, steps = 0, *labels;
    ft_shape shape;
    size_t sample = 1;
    float *values, *logits;
    ft_model *m;
    for (i = 1; i < argc; ++i) {
        size_t j;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) desc.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--simd") == 0 && i + 1 < argc) desc.simd = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && i + 1 < argc) desc.precision = argv[++i];
        else if (strcmp(argv[i], "--check") == 0 && i + 1 < argc) check = argv[++i];
        else if (strcmp(argv[i], "--operators") == 0) operators = true;
        else if (strncmp(argv[i], "gemm_", 5) == 0) gemm = argv[i];
        else if (argv[i][0] >= '0' && argv[i][0] <= '9') seconds = atof(argv[i]);
        for (j = 0; j < sizeof works / sizeof *works; ++j)
            if (strcmp(argv[i], works[j].name) == 0) w = &works[j];
    }
    if (!w && !gemm) {
        fprintf(stderr, "usage: bench WORK [SECONDS] [--threads N] [--simd LEVEL] [--operators]"
                        " [--check DIRECTORY]\n");
        return 2;
    }
    if (w && !desc.precision) desc.precision = w->precision;
    if (operators) desc.clock = now;
    m = ft_create(desc);
    if (gemm) {
        i = multiply(m, gemm, seconds);
        ft_destroy(m);
        return i;
    }
    build(m, w);
    if (w->training) ft_set_optimizer(m, adam);
    shape = ft_node_shape(m, ft_find(m, w->length ? "tokens" : "input"));
    for (i = 1; i < shape.rank; ++i)
        sample *= (size_t)(shape.size[i] == FT_LENGTH ? w->length : shape.size[i]);
    if (check) {
        i = compare(m, w, check, sample);
        ft_destroy(m);
        return i;
    }
    values = w->length ? some_tokens(sample * (size_t)w->batch, 65)
                       : random_numbers(sample * (size_t)w->batch);
    logits = random_numbers(1000 * (size_t)w->batch);
    labels = (int *)calloc(2 * (size_t)w->batch, sizeof *labels); /* and lengths behind them */
    if (!labels) return 1;
    for (i = 0; i < w->batch; ++i) labels[i] = w->length ? i % 2 : i % 10;
    for (i = 0; i < w->batch; ++i) labels[w->batch + i] = w->length;
    step(m, w, values, labels, logits);
    first = now(NULL) - begin;
    start = now(NULL);
    do {
        step(m, w, values, labels, logits);
        took = now(NULL) - start;
        steps += 1;
    } while (took < seconds);
    getrusage(RUSAGE_SELF, &usage);
    if (ft_error(m) != FT_OK) fprintf(stderr, "%s\n", ft_error_text(m));
    printf("{\"work\": \"%s\", \"per_second\": %.2f, \"resident_mb\": %.0f, \"first_step\": %.4f}\n",
           w->name, (double)steps * w->batch / took, (double)usage.ru_maxrss / 1024, first);
    if (operators) print_operators(m, steps + 1);
    i = ft_error(m) != FT_OK;
    ft_destroy(m);
    free(values);
    free(logits);
    free(labels);
    return i;
}
