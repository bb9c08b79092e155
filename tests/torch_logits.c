/* torch_logits.c - for torch_round_trip.py: loads MODEL, runs the tensor "input" of IN, writes the
   logits as raw float32 to OUT, and with a fourth argument saves the model there.
       torch_logits MODEL IN OUT [SAVED] */
#include <stdio.h>
#include <stdlib.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

int main(int count, char **words)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_weights_options none = {0};
    ft_file *file;
    ft_tensor_info info;
    float *x, *y;
    size_t numbers, classes;
    FILE *out;
    if (count < 4) return 2;
    ft_load(m, words[1], (ft_load_options){0});
    file = ft_file_open(m, words[2], none);
    if (!file) return puts(ft_error_text(m)), 1;
    info = ft_file_tensor(file, ft_file_find(file, "input"));
    numbers = ft__shape_count(&info.shape);
    classes = (size_t)info.shape.size[0] * (size_t)ft_class_count(m);
    x = (float *)calloc(numbers, sizeof *x);
    y = (float *)calloc(classes, sizeof *y);
    ft_file_read_f32(file, ft_file_find(file, "input"), x, numbers);
    ft_run(m, x, info.shape.size[0], y, classes);
    if (count > 4) ft_save(m, words[4], (ft_save_options){0});
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    out = fopen(words[3], "wb");
    if (!out || fwrite(y, sizeof *y, classes, out) != classes || fclose(out) != 0) return 1;
    free(x);
    free(y);
    ft_file_close(file);
    ft_destroy(m);
    return 0;
}
