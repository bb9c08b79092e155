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

/* The share of each class in the logits of the last run, in `floats`, as with_probabilities says. */
static void make_probabilities(ft_model *m, size_t count, bool sigmoid)
{
    size_t classes = (size_t)ft_node_shape(m, ft_output(m)).size[1], i, k;
    double t = (double)ft_temperature(m);
    for (i = 0; i < count; i += classes) {
        double sum = 0, most = -1e30;
        for (k = i; k < i + classes; ++k) most = (double)floats[k] > most ? (double)floats[k] : most;
        for (k = i; k < i + classes; ++k) sum += exp(((double)floats[k] - most) / t);
        for (k = i; k < i + classes; ++k)
            floats[k] = (float)(sigmoid ? 1 / (1 + exp(-(double)floats[k] / t)) : exp(((double)floats[k] - most) / t) / sum);
    }
}

/* Feeds bytes as pictures, which are written as they are, and what the network must make of them. */
static void feed_pictures(ft_model *m, ft_node input, const char *folder, const char *name)
{
    ft_preprocessing p = ft_get_preprocessing(m);
    size_t places = (size_t)(p.width * p.height), channels = (size_t)p.channels, n, i, c;
    char path[1000];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s.0", folder, name);
    file = fopen(path, "wb");
    for (n = 0; n < CASE_BATCH; ++n)
        for (i = 0; i < places; ++i)
            for (c = 0; c < channels; ++c) {
                int byte = (int)(onnx_uniform() * 256);
                if (!file || fputc(byte, file) == EOF) exit(1);
                floats[(n * channels + c) * places + i] = ((float)byte / 255.0f - p.mean[c]) / p.std[c];
            }
    if (!file || fclose(file) != 0) exit(1);
    ft_feed(m, input, floats, CASE_BATCH);
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
            if (save.with_preprocessing) {
                feed_pictures(m, node, folder, name);
                continue;
            }
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
    if (save.with_probabilities) make_probabilities(m, count, strstr(name, "sigmoid") != NULL);
    write_numbers(folder, name, "out", ft_node_type(m, node) == FT_I32, count);
    if (ft_error(m)) printf("%s: %s\n", name, ft_error_text(m));
    else printf("%s written\n", name);
    ft_destroy(m);
}

/* Networks with what the options and types of weights change. */
static void write_variants(const char *folder)
{
    static const char *const types[] = {"variant_f16", "variant_bf16", "variant_int8"};
    static const ft_type of[] = {FT_F16, FT_BF16, FT_I8};
    ft_save_options save = {.widen = false};
    ft_preprocessing p = {.width = 16, .height = 16, .channels = 3, .mean = {0.4f, 0.5f, 0.3f}, .std = {0.2f, 0.3f, 0.25f}};
    ft_network_options small = {.classes = 5, .image_size = 16};
    ft_model *m;
    ft_node x, lengths, states[3];
    int i;
    for (i = 0; i < 6; ++i) { /* GPT-2's linear weights are [in, out] in files */
        char name[60];
        m = ft_create((ft_desc){0});
        ft_network(m, i < 3 ? "bert" : "gpt2", (ft_network_options){.classes = i < 3 ? 3 : 0, .words = 20, .hidden = 24, .layers = 2, .heads = 3});
        draw_onnx_weights(m);
        ft_freeze(m, "*");
        ft_set_type(m, "*", of[i % 3]);
        snprintf(name, sizeof name, "%s_%s", types[i % 3], i < 3 ? "bert" : "gpt2");
        write_case(m, folder, name, save);
    }
    for (i = 0; i < 2; ++i) {
        m = ft_create((ft_desc){0});
        ft_network(m, "resnet20", small);
        draw_onnx_weights(m);
        ft_set_temperature(m, 1.7f);
        ft_set_preprocessing(m, p);
        if (i) ft_set_loss_kind(m, "binary_cross_entropy", (ft_loss_options){0});
        save.with_probabilities = true;
        save.with_preprocessing = i == 0;
        write_case(m, folder, i ? "variant_sigmoid" : "variant_pictures", save);
    }
    save.with_probabilities = save.with_preprocessing = false;
    m = ft_create((ft_desc){0});
    x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 4}});
    lengths = ft_input(m, "lengths", (ft_input_options){.type = FT_I32});
    states[0] = ft_lstm(m, "lstm", x, 3, (ft_recurrent_options){.layers = 2, .bidirectional = true, .lengths = lengths,
                                                                .final_states = true, .weight_drop = 0.3f, .dropout = 0.2f});
    states[0] = ft_step_pool(m, "mean", states[0], lengths, (ft_step_pool_options){.kind = FT_POOL_MEAN});
    states[1] = ft_find(m, "lstm.h_n");
    states[2] = ft_find(m, "lstm.c_n");
    ft_set_output(m, ft_concat(m, "all", 3, states, 1));
    draw_onnx_weights(m);
    write_case(m, folder, "variant_final_states", save);
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
    onnx_random = 5;
    write_variants(words[1]);
    for (i = 0; i < ONNX_CASES + ONNX_NETWORKS; ++i) {
        ft_model *m = ft_create((ft_desc){0});
        snprintf(name, sizeof name, "%03d_%s", i, make_onnx_case(m, i));
        write_case(m, words[1], name, save);
    }
    return 0;
}
