/* cc -std=c99 -O2 -I. examples/finetune_resnet.c -o finetune_resnet -lm -pthread
   finetune_resnet.c - a pretrained ResNet learns other classes in two steps: first a new head on frozen layers,
   then all layers at a small rate. finetune_resnet [MODEL TRAIN TEST] takes any ResNet that ft_load knows, such
   as torchvision's resnet18, and folders with one folder of pictures per class; without them it learns ten
   letters of the demo. What it prints is in docs/examples.md. */
#include <stdio.h>
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

static int report(ft_model *m)
{
    fprintf(stderr, "%s\n", ft_error_text(m));
    ft_destroy(m);
    return 1;
}

static void print_score(const char *what, ft_model *m, ft_data *test)
{
    ft_evaluation e = ft_evaluate(m, test, (ft_evaluate_options){0});
    if (ft_error(m)) return;
    printf("%s, right of %d: %d\n", what, e.total, e.correct);
}

int main(int count, char **words)
{
    const char *model = count > 3 ? words[1] : "examples/demo/base.safetensors";
    const char *train_path = count > 3 ? words[2] : "examples/demo/train";
    const char *test_path = count > 3 ? words[3] : "examples/demo/test";
    /* Views of a picture differ a little from it, so that an epoch never repeats the one before. Letters must not
       be mirrored; photos may: .flip = true. */
    ft_image_folder_options views = {.augmentation = {.shift = 0.1f, .degrees = 8}};
    ft_fit_options head = {.epochs = 30, .hold_back = 0}, all = {.epochs = 20, .batch_size = 16, .augment = true};
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_data *train, *test;
    ft_fit_result result;
    ft_load(m, model, (ft_load_options){0});
    train = ft_image_folder(m, train_path, views);
    test = ft_image_folder(m, test_path, (ft_image_folder_options){.classes_of = train});
    if (ft_error(m)) return report(m);
    printf("%d pictures of %d classes\n", ft_data_count(train), ft_data_classes(train));

    /* 1. All that was learnt stays as it is; the last layer becomes a new one for these classes. What the frozen
       layers compute is kept, so that an epoch takes no time. */
    ft_freeze(m, "*");
    ft_replace_head(m, ft_data_classes(train));
    head.optimizer.learning_rate = 2e-3f;
    result = ft_fit(m, train, head);
    if (ft_error(m)) return report(m);
    printf("%d frozen tensors: %s\n", result.before.tensors,
           result.before.frozen == result.after.frozen ? "not a bit has changed" : "changed");
    print_score("the new head", m, test);

    /* 2. Now the layers below may follow: at a smaller rate, so that what they know is not lost. */
    ft_unfreeze(m, "*");
    all.optimizer.learning_rate = 1e-3f;
    all.schedule = FT_ONE_CYCLE;
    all.fixed_momentum = true; /* the momentum does not follow the rate */
    ft_fit(m, train, all);
    if (ft_error(m)) return report(m);
    print_score("all layers", m, test);

    ft_save(m, "finetuned.safetensors", (ft_save_options){0});
    if (ft_error(m)) return report(m);
    printf("finetuned.safetensors: the network, its classes and its preprocessing, for prediction\n");
    ft_destroy(m);
    return 0;
}
