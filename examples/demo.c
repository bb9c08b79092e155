/* demo.c - shows in under a minute what fine-tuning is good for (make demo).

   A small network was pretrained on Latin letters (examples/demo/base.safetensors). The task is ten
   Georgian letters with ten pictures of each: too few to learn from scratch. Three networks are
   trained on them and scored on 400 pictures in other fonts, which none of them has seen:
     from scratch   the same network with random weights
     head only      the pretrained network, frozen, with a new last layer
     fine-tuned     the default recipe, ft_finetune */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum way { FROM_SCRATCH, HEAD_ONLY, FINE_TUNED };

static const char base[] = "examples/demo/base.safetensors";
static const char mine[] = "build/demo.safetensors";

static ft_fit_options training(enum way way)
{
    ft_fit_options o = {.epochs = 30, .batch_size = 16, .schedule = FT_ONE_CYCLE, .fixed_momentum = true};
    o.augment = way == FROM_SCRATCH; /* every advantage: small shifts, as in the recipe */
    o.optimizer.learning_rate = way == FROM_SCRATCH ? 0.005f : 0.01f;
    o.optimizer.weight_decay = 0.01f;
    return o;
}

/* Trains in one of the three ways and prints a line; returns false after an error. */
static bool run(enum way way)
{
    static const char *const names[] = {"from scratch", "head only", "fine-tuned"};
    ft_image_folder_options folder = {.augmentation = {.shift = 0.1f}};
    ft_image_folder_options scored = {.match_classes = true};
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_data *letters;
    ft_evaluation e;
    time_t start = time(NULL);
    bool fine;
    ft_load(m, base, (ft_load_options){0});
    letters = ft_image_folder(m, "examples/demo/train", folder);
    if (way == FINE_TUNED) ft_finetune(m, letters, (ft_finetune_options){.epochs = 30});
    else {
        const char *classes[64];
        int c, count = ft_data_classes(letters);
        for (c = 0; c < count && c < 64; ++c) classes[c] = ft_data_class_name(letters, c);
        ft_replace_head(m, count);
        ft_set_class_names(m, count, classes);
        if (way == FROM_SCRATCH) ft_initialise(m, "*", FT_INIT_DEFAULT);
        else ft_freeze(m, "*");
        ft_unfreeze(m, way == FROM_SCRATCH ? "*" : "linear.*");
        ft_fit(m, letters, training(way));
    }
    e = ft_evaluate(m, ft_image_folder(m, "examples/demo/test", scored), (ft_evaluate_options){0});
    if (way == FINE_TUNED) ft_save(m, mine, (ft_save_options){0});
    fine = ft_error(m) == FT_OK;
    if (fine) printf("%-13s %3d of %d right, %5.1f %% (95 %% interval %4.1f to %4.1f)  %2.0f s\n",
                     names[way], e.correct, e.total, 100 * e.accuracy, 100 * e.low, 100 * e.high,
                     difftime(time(NULL), start));
    else fprintf(stderr, "demo: %s\n", ft_error_text(m));
    fflush(stdout);
    ft_destroy(m);
    return fine;
}

static void print_class(const ft_model *m, ft_prediction p, const char *end)
{
    const char *name = ft_class_name(m, p.class_index);
    printf(" %s %.1f %%%s", name ? name : "?", 100 * (double)p.probability, end);
}

/* The saved file alone is enough to predict. */
static bool predict(const char *picture)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_prediction best[2];
    bool fine;
    ft_load(m, mine, (ft_load_options){0});
    fine = ft_predict_file(m, picture, best, 2) == 2;
    if (fine) {
        printf("%s:", picture);
        print_class(m, best[0], ",");
        print_class(m, best[1], "\n");
    } else fprintf(stderr, "demo: %s\n", ft_error_text(m));
    ft_destroy(m);
    return fine;
}

int main(void)
{
    printf("ten Georgian letters, ten pictures of each; a network pretrained on Latin ones\n");
    if (!run(FROM_SCRATCH) || !run(HEAD_ONLY) || !run(FINE_TUNED)) return 1;
    return predict("examples/demo/test/gani/003.png") ? 0 : 1;
}
