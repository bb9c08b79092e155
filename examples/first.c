/* first.c - the README's program: fine-tune on a folder of pictures, score, save, predict. */
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

int main(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_load(m, "examples/demo/base.safetensors", (ft_load_options){0});
    ft_data *train = ft_image_folder(m, "examples/demo/train", (ft_image_folder_options){0});
    ft_finetune_result result = ft_finetune(m, train, (ft_finetune_options){0});
    ft_data *test = ft_image_folder(m, "examples/demo/test",
                                    (ft_image_folder_options){.match_classes = true});
    ft_evaluation e = ft_evaluate(m, test, (ft_evaluate_options){0});
    ft_save(m, "mine.safetensors", (ft_save_options){0});
    ft_prediction best = {0};
    ft_predict_file(m, "examples/demo/test/gani/003.png", &best, 1);
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    printf("%s\n%d of %d right (95 %% interval %.1f to %.1f %%)\n", result.choice, e.correct,
           e.total, 100 * e.low, 100 * e.high);
    printf("gani/003.png: %s, %.0f %%\n", ft_class_name(m, best.class_index),
           100 * (double)best.probability);
    ft_destroy(m);
    return 0;
}
