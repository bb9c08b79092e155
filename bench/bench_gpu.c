/* bench_gpu.c - training steps on a device: ResNet-18 on random pictures and an LSTM language model
   on random words, all weights trained by SGD with momentum. peer_gpu.py does the same in PyTorch.
       build/bench_gpu DEVICE SECONDS [small]
   Each step feeds a batch from the host's memory and reads its loss. One line for each network: the
   median of the steps' milliseconds and what they process per second. "small": sizes with which an
   OpenCL device that is a processor takes seconds. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "finetune.h"

enum { MOST_STEPS = 2000, WORDS = 10000, UNITS = 512 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double clock_of(void *user)
{
    (void)user;
    return seconds();
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs steps until the time is over, after `warm` that do not count. */
static int time_steps(ft_model *m, const char *name, const char *unit, const char *input,
                      const void *values, const int *labels, int batch, double each, double most)
{
    static double took[MOST_STEPS];
    double begin = 0, start, loss = 0;
    int count = 0, warm = 3, step;
    for (step = 0; step < MOST_STEPS && !ft_error(m); ++step) {
        start = seconds();
        if (step == warm) begin = start;
        if (step > warm && start - begin > most) break;
        ft_feed(m, ft_find(m, input), values, batch);
        ft_feed(m, ft_find(m, "labels"), labels, batch);
        loss = (double)ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-3f);
        if (step >= warm) took[count++] = seconds() - start;
    }
    if (ft_error(m) || count == 0) {
        printf("%s: %s\n", name, ft_error(m) ? ft_error_text(m) : "no step ended in time");
        return 1;
    }
    qsort(took, (size_t)count, sizeof took[0], by_size);
    printf("| %s | %.2f | %.0f %s/s | %d steps, loss %.3f |\n", name, 1e3 * took[count / 2],
           each / took[count / 2], unit, count, loss);
    fflush(stdout);
    return 0;
}

static ft_model *model_on(const char *device)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.device = device;
    desc.clock = clock_of; /* the fastest form of each product is chosen */
    desc.seed = 1;
    return ft_create(desc);
}

static void use_sgd(ft_model *m)
{
    ft_optimizer_options sgd;
    memset(&sgd, 0, sizeof sgd);
    sgd.optimizer = FT_SGD;
    sgd.momentum = 0.9f;
    ft_set_optimizer(m, sgd);
}

static int train_pictures(const char *device, double most, int small)
{
    int side = small ? 32 : 224, batch = small ? 4 : 64, count = batch * 3 * side * side, i, failed;
    float *x = (float *)malloc((size_t)count * sizeof *x);
    int *labels = (int *)malloc((size_t)batch * sizeof *labels);
    ft_model *m = model_on(device);
    ft_network_options options;
    char name[80];
    if (!x || !labels) exit(1);
    for (i = 0; i < count; ++i) x[i] = (float)(i * 7919 % 1000) / 500.0f - 1.0f;
    for (i = 0; i < batch; ++i) labels[i] = i % 10;
    memset(&options, 0, sizeof options);
    options.classes = 10;
    options.image_size = side;
    ft_network(m, "resnet18", options);
    use_sgd(m);
    snprintf(name, sizeof name, "ResNet-18, %d x %d, batch %d", side, side, batch);
    failed = time_steps(m, name, "pictures", "input", x, labels, batch, batch, most);
    ft_destroy(m);
    free(x);
    free(labels);
    return failed;
}

static int train_words(const char *device, double most, int small)
{
    int steps = small ? 8 : 64, batch = small ? 4 : 64, words = small ? 100 : WORDS, i, failed;
    int *ids = (int *)malloc((size_t)(batch * steps) * sizeof *ids);
    int *labels = (int *)malloc((size_t)(batch * steps) * sizeof *labels);
    ft_model *m = model_on(device);
    ft_network_options options;
    char name[80];
    if (!ids || !labels) exit(1);
    for (i = 0; i < batch * steps; ++i) ids[i] = i * 7919 % words;
    for (i = 0; i < batch * steps; ++i) labels[i] = (ids[i] + 1) % words;
    memset(&options, 0, sizeof options);
    options.words = words;
    options.embedding = options.hidden = small ? 32 : UNITS;
    options.layers = 2;
    ft_network(m, "lstm_lm", options);
    ft_set_length(m, steps);
    use_sgd(m);
    snprintf(name, sizeof name, "LSTM, 2 x %d, %d words, %d x %d", options.hidden, words, batch,
             steps);
    failed = time_steps(m, name, "words", "tokens", ids, labels, batch, (double)batch * steps, most);
    ft_destroy(m);
    free(ids);
    free(labels);
    return failed;
}

int main(int count, char **words)
{
    const char *device = count > 1 ? words[1] : "gpu";
    double most = count > 2 ? atof(words[2]) : 10;
    int small = count > 3 && strcmp(words[3], "small") == 0;
    return train_pictures(device, most, small) | train_words(device, most, small);
}
