/* onnx_run.c - for onnx_export.py: loads the ONNX file MODEL, feeds it the tensors of IN (safetensors, float32)
   and writes its outputs to OUT as raw float32, one after the other. With a tensor "labels" in IN it takes one
   step of SGD at RATE and writes the loss before it and the outputs after it; with "again" then the loss after
   it. Then the network is saved as OUT.onnx. Without NAMEs the output is the network's.
       onnx_run MODEL IN OUT RATE [NAME...]
   Tensors of IN: "sample", if it is there, is ft_weights_options.sample; "length" the number of steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finetune.h"

static size_t count_of(ft_shape s)
{
    size_t count = 1;
    int d;
    for (d = 0; d < s.rank; ++d) count *= (size_t)s.size[d];
    return count;
}

/* The numbers of a tensor of IN, to be freed; NULL: it has none of this name. */
static float *numbers(ft_file *file, const char *name, ft_shape *shape)
{
    int at = ft_file_find(file, name);
    float *x;
    if (at < 0) return NULL;
    *shape = ft_file_tensor(file, at).shape;
    x = (float *)calloc(count_of(*shape) + 1, sizeof *x);
    if (x) ft_file_read_f32(file, at, x, count_of(*shape));
    return x;
}

/* Returns the batch. */
static int feed_all(ft_model *m, ft_file *file)
{
    int batch = 0;
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *name = ft_node_name(m, node);
        ft_shape shape;
        size_t i;
        float *x;
        if (strcmp(ft_node_operator(m, node), "input") != 0) continue;
        x = numbers(file, name, &shape);
        if (!x) {
            if (strcmp(name, "labels") != 0) printf("no input \"%s\" was given\n", name);
            continue;
        }
        if (ft_node_type(m, node) == FT_I32)
            for (i = 0; i < count_of(shape); ++i) {
                int32_t whole = (int32_t)x[i];
                memcpy(&x[i], &whole, sizeof whole);
            }
        ft_feed(m, node, x, batch = shape.size[0]);
        free(x);
    }
    return batch;
}

/* Appends the outputs to `out`. */
static void write_outputs(ft_model *m, int batch, char **names, int count, FILE *out)
{
    int k, d;
    ft_forward(m, false);
    for (k = 0; k < (count ? count : 1); ++k) {
        ft_node node = count ? ft_find(m, names[k]) : ft_output(m);
        ft_shape shape = ft_node_shape(m, node);
        float *y;
        for (d = 0; d < shape.rank; ++d)
            if (shape.size[d] == FT_BATCH) shape.size[d] = batch;
            else if (shape.size[d] == FT_LENGTH) shape.size[d] = ft_length(m);
        y = (float *)calloc(count_of(shape) + 1, sizeof *y);
        if (y && ft_get(m, node, y, count_of(shape)) == FT_OK) fwrite(y, sizeof *y, count_of(shape), out);
        free(y);
    }
}

int main(int count, char **words)
{
    ft_desc desc = {0};
    ft_load_options load = {0};
    ft_optimizer_options plain = {0};
    ft_model *m, *files;
    ft_file *file;
    ft_shape shape;
    float *x, loss;
    FILE *out;
    char path[1000];
    int k, batch;
    if (count < 5) return 2;
    desc.threads = 2;
    files = ft_create(desc);
    m = ft_create(desc);
    file = ft_file_open(files, words[2], load.weights);
    out = fopen(words[3], "wb");
    if (!file || !out) return puts(ft_error_text(files)), 1;
    x = numbers(file, "sample", &shape);
    for (k = 0; x && k < shape.size[0]; ++k) load.weights.sample[k] = (int)x[k];
    free(x);
    ft_load(m, words[1], load);
    x = numbers(file, "length", &shape);
    if (x) ft_set_length(m, (int)x[0]);
    free(x);
    for (k = 5; k < count; ++k) ft_keep(m, ft_find(m, words[k]));
    batch = feed_all(m, file);
    write_outputs(m, batch, words + 5, count - 5, out);
    if (ft_file_find(file, "labels") >= 0) {
        if (!ft_loss(m).id) { /* the first output learns the labels as numbers */
            ft_node output = count > 5 ? ft_find(m, words[5]) : ft_output(m);
            ft_input_options target = {0};
            shape = ft_node_shape(m, output);
            for (k = 1; k < shape.rank; ++k) target.size[k - 1] = shape.size[k];
            ft_set_loss(m, ft_mse(m, "loss", output, ft_input(m, "labels", target)));
        }
        plain.optimizer = FT_SGD;
        ft_set_optimizer(m, plain);
        feed_all(m, file);
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, (float)atof(words[4]));
        fwrite(&loss, sizeof loss, 1, out);
        write_outputs(m, batch, words + 5, count - 5, out);
        if (ft_file_find(file, "again") >= 0) {
            loss = ft_forward(m, true);
            fwrite(&loss, sizeof loss, 1, out);
        }
        snprintf(path, sizeof path, "%s.onnx", words[3]);
        ft_save(m, path, (ft_save_options){.widen = false});
    }
    fclose(out);
    if (ft_error(m)) return puts(ft_error_text(m)), 1;
    ft_file_close(file);
    ft_destroy(m);
    ft_destroy(files);
    return 0;
}
