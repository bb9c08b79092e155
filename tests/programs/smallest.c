/* smallest.c - classifies one picture with a network from a file, and compiles nothing else.
     cc -std=c99 -O2 -I. tests/programs/smallest.c -o build/smallest -lm -pthread
   With -DFULL and build/finetune.o it is the same program on the whole library. */
#include <stdio.h>
#ifndef FULL
#define FINETUNE_ONLY
#define FINETUNE_USE_CONVOLUTION
#define FINETUNE_USE_RESNET
#define FINETUNE_USE_STDIO
#define FINETUNE_IMPLEMENTATION
#ifdef __GNUC__ /* what main does not call is left out, too */
#define FINETUNE_API static __attribute__((unused))
#endif
#endif
#include "finetune.h"

int main(int count, char **word)
{
    static uint8_t pixels[32 * 32 * 3];
    ft_desc desc = {0};
    ft_prediction best[3];
    int i, found;
    ft_model *m;
    if (count < 3) return puts("smallest MODEL SIMD"), 2;
    desc.simd = word[2];
    for (i = 0; i < 32 * 32 * 3; ++i) pixels[i] = (uint8_t)(i * i % 251);
    m = ft_create(desc);
    ft_load(m, word[1], (ft_load_options){0});
    found = ft_predict_pixels(m, pixels, 32, 32, 3, best, 3);
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    for (i = 0; i < found; ++i)
        printf("%d %a\n", best[i].class_index, (double)best[i].probability);
    ft_destroy(m);
    return 0;
}
