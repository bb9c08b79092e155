/* pictures.c - trains a new head for the letters of examples/demo, scores it, saves, loads, predicts.
     cc -std=c99 -O2 -I. tests/programs/pictures.c build/finetune.o -o build/pictures -lm -pthread */
#include <stdio.h>
#include <stdlib.h>
#include <stb/stb_image.h>
#include "finetune.h"
#define LETTER "examples/demo/test/gani/003.png"
typedef struct list { int count; ft_sample_result r[512]; } list;

static bool show(void *user, const ft_progress *p)
{
    (void)user;
    if (p->epoch_done)
        printf("%s %d/%d: loss %.3f, %.3f right\n", p->stage, p->epoch + 1, p->epochs, p->loss,
               p->accuracy);
    return true;
}
static void note(void *user, const ft_sample_result *r)
{
    list *l = (list *)user;
    if (r->guess != r->label && l->count < 512) l->r[l->count++] = *r;
}
static int surest_first(const void *a, const void *b)
{
    float x = ((const ft_sample_result *)a)->probability;
    float y = ((const ft_sample_result *)b)->probability;
    return (x < y) - (x > y);
}
int main(void)
{
    static list wrong;
    static unsigned char bytes[1 << 22];
    int confusion[100] = {0}, diagonal = 0, i, w = 0, h = 0, c = 0;
    ft_desc desc = {.seed = 1, .memory_budget = (size_t)100 << 20};
    ft_prediction best[3] = {{0}};
    ft_model *m = ft_create(desc), *saved = ft_create(desc);
    ft_load(m, "examples/demo/base.safetensors", (ft_load_options){0});
    ft_data *train = ft_image_folder(m, "examples/demo/train", (ft_image_folder_options){0});
    ft_finetune(m, train, (ft_finetune_options){ /* the head, "linear", alone is trained */
        .epochs = 20, .freeze = "conv1*,bn1*,layer*", .progress = show});
    ft_data *test = ft_image_folder(m, "examples/demo/test",
                                    (ft_image_folder_options){.match_classes = true});
    ft_evaluation e = ft_evaluate(m, test, (ft_evaluate_options){
        .confusion = confusion, .confusion_count = 100, .sample = note, .sample_user = &wrong});
    ft_save(m, "build/letters.safetensors", (ft_save_options){0});
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    for (i = 0; i < 10; ++i) diagonal += confusion[11 * i];
    printf("%d of %d right, %d on the diagonal\n", e.correct, e.total, diagonal);
    qsort(wrong.r, (size_t)wrong.count, sizeof *wrong.r, surest_first);
    for (i = 0; i < wrong.count && i < 5; ++i)
        printf("%s: taken for %s, %.0f %%\n", ft_data_name(test, wrong.r[i].index),
               ft_class_name(m, wrong.r[i].guess), 100 * (double)wrong.r[i].probability);
    ft_load(saved, "build/letters.safetensors", (ft_load_options){0});
    FILE *file = fopen(LETTER, "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    unsigned char *pixels = stbi_load(LETTER, &w, &h, &c, 3);
    ft_predict_file(saved, LETTER, &best[0], 1);
    ft_predict_memory(saved, bytes, size, &best[1], 1);
    ft_predict_pixels(saved, pixels, w, h, 3, &best[2], 1);
    if (ft_error(saved)) return puts(ft_error_text(saved)), 1;
    for (i = 0; i < 3; ++i)
        printf("%s %.2f %%\n", ft_class_name(saved, best[i].class_index),
               100 * (double)best[i].probability);
    if (file) fclose(file);
    stbi_image_free(pixels);
    ft_destroy(m);
    ft_destroy(saved);
    return 0;
}
