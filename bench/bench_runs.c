/* bench_runs.c - whole runs from the start of the process, with a file of weights and folders of
   pictures; prints one line of JSON.
     build/bench_runs WORK MODEL TRAIN VAL [--threads N] [--cache FOLDER]
   WORK  start       ResNet-18 read and its plan for training with batches of 16 made
         head        a new head, 10 epochs, the pictures as they are
         head_views  the same on 8 augmented views of each picture
   Its like in PyTorch is bench/peer_runs.py. The time ends with the training; the pictures of VAL
   are scored after it. */
#define _POSIX_C_SOURCE 200809L
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

#include <sys/resource.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A head for the folder's classes on the frozen network. */
static ft_data *new_head(ft_model *m, const char *train, bool views)
{
    ft_image_folder_options folder = {0};
    ft_data *data;
    if (views) folder.augmentation.scale = 0.5f;
    data = ft_image_folder(m, train, folder);
    ft_replace_head(m, ft_data_classes(data));
    ft_freeze(m, "*");
    ft_unfreeze(m, "fc.*");
    return data;
}

int main(int argc, char **argv)
{
    double begin = now(), seconds;
    ft_desc desc = {.seed = 1};
    ft_load_options load = {.weights = {.map = true}}; /* as safetensors.torch does */
    ft_image_folder_options scored = {.match_classes = true};
    ft_evaluate_options how = {0};
    ft_evaluation e = {0};
    ft_fit_options fit = {.epochs = 10, .batch_size = 32};
    struct rusage usage;
    ft_model *m;
    int i, status;
    if (argc < 5) {
        fprintf(stderr, "usage: bench_runs start|head|head_views MODEL TRAIN VAL [--threads N]"
                        " [--cache FOLDER]\n");
        return 2;
    }
    for (i = 5; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0) desc.threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--cache") == 0) desc.cache = argv[i + 1];
    }
    m = ft_create(desc);
    ft_load(m, argv[2], load);
    fit.optimizer.learning_rate = 2e-3f;
    fit.optimizer.weight_decay = 0.01f;
    fit.augment = strcmp(argv[1], "head_views") == 0;
    if (strcmp(argv[1], "start") == 0) {
        ft_set_optimizer(m, fit.optimizer);
        ft__begin(m, 16, true);
        seconds = now() - begin;
    } else {
        ft_fit(m, new_head(m, argv[3], fit.augment), fit);
        seconds = now() - begin;
        getrusage(RUSAGE_SELF, &usage);
        e = ft_evaluate(m, ft_image_folder(m, argv[4], scored), how);
    }
    if (strcmp(argv[1], "start") == 0) getrusage(RUSAGE_SELF, &usage);
    status = ft_error(m) != FT_OK;
    if (status) fprintf(stderr, "%s\n", ft_error_text(m));
    else printf("{\"work\": \"%s\", \"seconds\": %.4f, \"right\": %d, \"resident_mb\": %.0f}\n",
                argv[1], seconds, e.correct, (double)usage.ru_maxrss / 1024);
    ft_destroy(m);
    return status;
}
