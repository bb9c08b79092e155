/* onnx_out.c - for onnx_files.py: writes each network of onnx_cases.h, or MODEL, into FOLDER as NAME.onnx, with
   its inputs and its output: NAME.0, NAME.1, ... and NAME.out, raw float32 or int64.
       onnx_out FOLDER [MODEL NAME] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
#include "check.h"
#include "onnx_cases.h"

static float floats[CASE_NUMBERS];
static int32_t integers[CASE_NUMBERS];

static void write_numbers(const char *folder, const char *name, const char *end, bool whole, size_t count)
{
    char path[1000];
    FILE *file;
    size_t i;
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, end);
    file = fopen(path, "wb");
    for (i = 0; file && i < count; ++i) {
        int64_t wide = integers[i];
        if (whole) fwrite(&wide, sizeof wide, 1, file);
        else fwrite(&floats[i], sizeof *floats, 1, file);
    }
    if (!file || fclose(file) != 0) exit(1);
}

/* Runs the model twice, so that states are not zero, and writes what the second run read and gave. */
static void write_case(ft_model *m, const char *folder, const char *name, ft_save_options save)
{
    char path[1000], end[20];
    ft_node node;
    int i, run;
    size_t count;
    ft_set_length(m, CASE_STEPS);
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    ft_save(m, path, save);
    for (run = 0; run < 2; ++run) {
        for (i = 0; (node = onnx_input(m, i)).id; ++i) {
            bool whole = ft_node_type(m, node) == FT_I32;
            count = onnx_numbers(m, node);
            draw_onnx_input(m, node, floats, integers);
            if (strcmp(ft_node_operator(m, node), "state") == 0) {
                memset(floats, 0, count * sizeof *floats);
                if (run && ft_get(m, node, floats, count) != FT_OK) break;
            } else ft_feed(m, node, whole ? (void *)integers : (void *)floats, CASE_BATCH);
            snprintf(end, sizeof end, "%d", i);
            write_numbers(folder, name, end, whole, count);
        }
        ft_forward(m, false);
    }
    node = ft_output(m);
    count = onnx_numbers(m, node);
    if (ft_node_type(m, node) == FT_I32) {
        ft_get(m, node, floats, count);
        memcpy(integers, floats, count * sizeof *integers);
    } else ft_get(m, node, floats, count);
    write_numbers(folder, name, "out", ft_node_type(m, node) == FT_I32, count);
    if (ft_error(m)) printf("%s: %s\n", name, ft_error_text(m));
    else printf("%s written\n", name);
    ft_destroy(m);
}

int main(int count, char **words)
{
    ft_save_options save = {.widen = false};
    char name[100];
    int i;
    if (count > 3) {
        ft_model *m = ft_create((ft_desc){0});
        ft_load(m, words[2], (ft_load_options){0});
        write_case(m, words[1], words[3], save);
        return 0;
    }
    if (count < 2) return 2;
    for (i = 0; i < ONNX_CASES + ONNX_NETWORKS; ++i) {
        ft_model *m = ft_create((ft_desc){0});
        const char *op = i < ONNX_CASES ? onnx_cases[i].op : onnx_networks[i - ONNX_CASES].name;
        onnx_random = 7 + (uint64_t)i;
        if (i < ONNX_CASES) build_onnx_case(m, &onnx_cases[i]);
        else ft_network(m, op, onnx_networks[i - ONNX_CASES].options);
        draw_onnx_weights(m);
        snprintf(name, sizeof name, "%03d_%s", i, op);
        write_case(m, words[1], name, save);
    }
    return 0;
}
