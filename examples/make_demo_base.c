/* make_demo_base.c - pretrains the base network of the demonstration from scratch, on a folder of
   pictures that make_demo_images.c drew, and saves it in half precision:

     build/make_demo_base FOLDER OUT.safetensors [EPOCHS]

   It also shows how to train your own network with ft_fit. */
#include <stdio.h>
#include <stdlib.h>

#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

static bool print_epoch(void *user, const ft_progress *p)
{
    (void)user;
    if (p->epoch_done)
        printf("epoch %d: loss %.4f, %.1f %% right, held back %.1f %%\n", p->epoch + 1, p->loss,
               100 * p->accuracy, 100 * p->held_back_accuracy);
    fflush(stdout);
    return true;
}

int main(int count, char **words)
{
    ft_desc desc = {.seed = 1};
    ft_network_options network = {.image_size = 24};
    ft_image_folder_options folder = {.augmentation = {.shift = 0.08f}};
    ft_fit_options fit = {.batch_size = 64, .schedule = FT_ONE_CYCLE, .fixed_momentum = true,
                          .augment = true, .hold_back = 0.05f, .progress = print_epoch};
    ft_save_options half = {.type = FT_F16};
    ft_model *m;
    ft_data *letters;
    if (count < 3) {
        fprintf(stderr, "make_demo_base FOLDER OUT.safetensors [EPOCHS]\n");
        return 2;
    }
    fit.epochs = count > 3 ? atoi(words[3]) : 12;
    fit.optimizer.learning_rate = 0.005f;
    fit.optimizer.weight_decay = 0.01f;
    m = ft_create(desc);
    ft_network(m, "resnet20", network);
    letters = ft_image_folder(m, words[1], folder);
    ft_replace_head(m, ft_data_classes(letters));
    ft_fit(m, letters, fit);
    ft_save(m, words[2], half);
    if (ft_error(m)) fprintf(stderr, "%s\n", ft_error_text(m));
    count = ft_error(m) != FT_OK;
    ft_destroy(m);
    return count;
}
