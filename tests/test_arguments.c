/* test_arguments.c - wrong arguments through the public interface: NULL for every object, numbers
   that are not finite or out of range, and objects of another model. None may crash; each is an
   error if there is a model to store it. */
#include "check.h"

#include <limits.h>

#include "finetune.h"

static ft_model *new_model(void)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    return ft_create(desc);
}

/* A small network; x becomes the node of its linear layer. */
static ft_model *network(ft_node *x)
{
    ft_model *m = new_model();
    ft_input_options in;
    ft_linear_options linear;
    ft_loss_options loss;
    memset(&in, 0, sizeof in);
    memset(&linear, 0, sizeof linear);
    memset(&loss, 0, sizeof loss);
    in.size[0] = 3;
    *x = ft_linear(m, "fc", ft_input(m, "input", in), 2, linear);
    in.type = FT_I32;
    in.size[0] = 0;
    ft_set_output(m, *x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", *x, ft_input(m, "labels", in), loss));
    return m;
}

/* ---- NULL ---- */

static const char *what; /* the call that `which` means */

#define TRY(expression)                                                                          \
    do {                                                                                         \
        if (which == at++) {                                                                     \
            what = #expression;                                                                  \
            if (make) expression;                                                                \
            return true;                                                                         \
        }                                                                                        \
    } while (0)

/* Every function that takes a pointer to an object, by its number: the model `m`, a node, and NULL
   for every other pointer. Sizes are 1, options zero. False: there are no more. */
static bool call(int which, ft_model *m, ft_node x, bool make)
{
    int at = 0;
    static struct {
        ft_load_options load_options;
        ft_network_options network_options;
        ft_language_model_to_classifier_options language_model_to_classifier_options;
        ft_weights_options weights_options;
        ft_graph_options graph_options;
        ft_save_options save_options;
        ft_lora_options lora_options;
        ft_merge_options merge_options;
        ft_save_adapter_options save_adapter_options;
        ft_text_vector_options text_vector_options;
        ft_pair_loss_options pair_loss_options;
        ft_loss_options loss_options;
        ft_recalibrate_options recalibrate_options;
        ft_embed_options embed_options;
        ft_calibrate_options calibrate_options;
        ft_tokenize_pair_options tokenize_pair_options;
        ft_activation_options activation_options;
        ft_preprocessing preprocessing;
        ft_tokenizer_options tokenizer_options;
        ft_vocabulary_options vocabulary_options;
        ft_tokenize_options tokenize_options;
        ft_source source;
        ft_image_folder_options image_folder_options;
        ft_desc desc;
        ft_pixels_options pixels_options;
        ft_predict_options predict_options;
        ft_array_options array_options;
        ft_array_file_options array_file_options;
        ft_text_options text_options;
        ft_stream_options stream_options;
        ft_completion_options completion_options;
        ft_finetune_options finetune_options;
        ft_fit_options fit_options;
        ft_find_options find_options;
        ft_sweep_options sweep_options;
        ft_evaluate_options evaluate_options;
        ft_optimizer_options optimizer_options;
        ft_generate_options generate_options;
    } o; /* all zero */
    TRY(ft_error(m));
    TRY(ft_error_text(m));
    TRY(ft_clear_error(m));
    TRY(ft_devices(m, NULL, 1));
    TRY(ft_check_device(m));
    TRY(ft_device_checks(m, NULL, 1));
    TRY(ft_load(m, NULL, o.load_options));
    TRY(ft_network(m, NULL, o.network_options));
    TRY(ft_language_model_to_classifier(m, 1, o.language_model_to_classifier_options));
    TRY(ft_load_weights(m, NULL, o.weights_options));
    TRY(ft_load_graph(m, NULL, o.graph_options));
    TRY(ft_graph_text(m));
    TRY(ft_save(m, NULL, o.save_options));
    TRY(ft_check_save(m, NULL, o.save_options));
    TRY(ft_other_format(NULL));
    TRY(ft_file_open(m, NULL, o.weights_options));
    TRY(ft_file_close(NULL));
    TRY(ft_file_count(NULL));
    TRY(ft_file_tensor(NULL, 1));
    TRY(ft_file_find(NULL, NULL));
    TRY(ft_file_metadata(NULL, NULL));
    TRY(ft_file_read_f32(NULL, 1, NULL, 1));
    TRY(ft_file_read(NULL, 1, NULL, 1));
    TRY(ft_file_save(NULL, NULL, o.save_options));
    TRY(ft_replace(m, x, x));
    TRY(ft_cut(m, x));
#include "tries.h" /* of the functions that build nodes */
    TRY(ft_set_output(m, x));
    TRY(ft_set_loss(m, x));
    TRY(ft_set_teacher(m, NULL, o.loss_options));
    TRY(ft_set_loss_kind(m, NULL, o.loss_options));
    TRY(ft_output(m));
    TRY(ft_loss(m));
    TRY(ft_set_preprocessing(m, o.preprocessing));
    TRY(ft_get_preprocessing(m));
    TRY(ft_set_class_names(m, 1, NULL));
    TRY(ft_class_name(m, 1));
    TRY(ft_class_count(m));
    TRY(ft_find(m, NULL));
    TRY(ft_node_count(m));
    TRY(ft_node_name(m, x));
    TRY(ft_node_operator(m, x));
    TRY(ft_node_shape(m, x));
    TRY(ft_node_inputs(m, x, NULL, 1));
    TRY(ft_node_frozen(m, x));
    TRY(ft_node_multiply_adds(m, x));
    TRY(ft_node_time(m, x));
    TRY(ft_architecture(m));
    TRY(ft_get(m, x, NULL, 1));
    TRY(ft_set(m, x, NULL, 1));
    TRY(ft_get_gradient(m, x, NULL, 1));
    TRY(ft_keep(m, x));
    TRY(ft_want_gradient(m, x));
    TRY(ft_forget(m, x));
    TRY(ft_plan(m, 1, false));
    TRY(ft_lora(m, NULL, o.lora_options));
    TRY(ft_merge(m, o.merge_options));
    TRY(ft_unmerge(m));
    TRY(ft_save_adapter(m, NULL, o.save_adapter_options));
    TRY(ft_load_adapter(m, NULL));
    TRY(ft_freeze(m, NULL));
    TRY(ft_unfreeze(m, NULL));
    TRY(ft_frozen_digest(m));
    TRY(ft_set_type(m, NULL, FT_F16));
    TRY(ft_node_type(m, x));
    TRY(ft_replace_head(m, 1));
    TRY(ft_pair_loss(m, o.pair_loss_options));
    TRY(ft_set_text_vector(m, x, o.text_vector_options));
    TRY(ft_text_vector(m));
    TRY(ft_swap_activations(m, NULL, NULL, o.activation_options));
    TRY(ft_recalibrate(m, NULL, o.recalibrate_options));
    TRY(ft_scale_learning_rate(m, NULL, 1));
    TRY(ft_set_weight_decay(m, NULL, 1));
    TRY(ft_set_groups(m, NULL, 1));
    TRY(ft_decay_layers(m, 0.5f));
    TRY(ft_initialise(m, NULL, FT_INIT_ZEROS));
    TRY(ft_tokenizer_load(m, NULL, o.tokenizer_options));
    TRY(ft_tokenizer_build(m, FT_WORDS, NULL, 1, o.vocabulary_options));
    TRY(ft_tokenizer_free(NULL));
    TRY(ft_tokenize(NULL, NULL, 1, o.tokenize_options));
    TRY(ft_detokenize(NULL, NULL, 1, NULL));
    TRY(ft_tokenizer_kind_of(NULL));
    TRY(ft_tokenizer_count(NULL));
    TRY(ft_tokenizer_piece(NULL, 1));
    TRY(ft_tokenizer_find(NULL, NULL));
    TRY(ft_set_tokenizer(m, NULL));
    TRY(ft_get_tokenizer(m));
    TRY(ft_data_source(m, o.source));
    TRY(ft_image_folder(m, NULL, o.image_folder_options));
    TRY(ft_pixels(m, 1, NULL, NULL, NULL, o.pixels_options));
    TRY(ft_arrays(m, 1, NULL, NULL, o.array_options));
    TRY(ft_array_file(m, NULL, o.array_file_options));
    TRY(ft_texts(m, NULL, o.text_options));
    TRY(ft_text_streams(m, NULL, o.stream_options));
    TRY(ft_completions(m, NULL, o.completion_options));
    TRY(ft_set_packed(m, true));
    TRY(ft_set_packed(m, false));
    TRY(ft_data_free(NULL));
    TRY(ft_data_count(NULL));
    TRY(ft_data_classes(NULL));
    TRY(ft_data_task(NULL));
    TRY(ft_data_class_name(NULL, 1));
    TRY(ft_data_name(NULL, 1));
    TRY(ft_data_label(NULL, 1));
    TRY(ft_data_read(NULL, 0, 0, NULL, 0));
    TRY(ft_data_skipped(NULL));
    TRY(ft_data_held_back(NULL, 0.5f, NULL, 1));
    TRY(ft_finetune(m, NULL, o.finetune_options));
    TRY(ft_fit(m, NULL, o.fit_options));
    TRY(ft_find_learning_rate(m, NULL, o.fit_options, o.find_options));
    TRY(ft_sweep(m, NULL, NULL, o.sweep_options));
    TRY(ft_evaluate(m, NULL, o.evaluate_options));
    TRY(ft_calibrate(m, NULL, o.calibrate_options));
    TRY(ft_set_temperature(m, 1));
    TRY(ft_temperature(m));
    TRY(ft_metric_name(FT_METRIC_KAPPA));
    TRY(ft_set_optimizer(m, o.optimizer_options));
    TRY(ft_feed(m, x, NULL, 1));
    TRY(ft_feed_weights(m, NULL, 1));
    TRY(ft_set_length(m, 1));
    TRY(ft_length(m));
    TRY(ft_set_max_length(m, 8));
    TRY(ft_max_length(m));
    TRY(ft_forward(m, false));
    TRY(ft_backward(m));
    TRY(ft_update(m, 1));
    TRY(ft_reset_state(m, NULL));
    TRY(ft_predict_file(m, NULL, NULL, 1));
    TRY(ft_predict_memory(m, NULL, 1, NULL, 1));
    TRY(ft_predict_pixels(m, NULL, 1, 1, 1, NULL, 1));
    TRY(ft_predict_text(m, NULL, 1, NULL, 1));
    TRY(ft_predict_pair(m, NULL, 1, NULL, 1, NULL, 1));
    TRY(ft_run_text(m, NULL, 1, NULL, 1, NULL, 1));
    TRY(ft_set_pairs(m, true));
    TRY(ft_pairs(m));
    TRY(ft_tokenize_pair(NULL, NULL, 1, NULL, 1, o.tokenize_pair_options));
    TRY(ft_predict_data(m, NULL, NULL, 1, o.predict_options));
    TRY(ft_share(m, o.desc));
    TRY(ft_predict_entities(m, NULL, 1, NULL, 1));
    TRY(ft_predict_words(m, NULL, 1, NULL));
    TRY(ft_embed_texts(m, NULL, 1, NULL, 1, o.embed_options));
    TRY(ft_generate(m, o.generate_options));
    TRY(ft_run(m, NULL, 1, NULL, 1));
    TRY(ft_run_lengths(m, NULL, NULL, 1, NULL, 1));
    TRY(ft_ctc_decode(NULL, 1, 1, 0, NULL));
    return false;
}

/* Whether the header's own list of functions has one that the list above lacks. */
static void test_list_is_whole(void)
{
    static const char *const others[] = {"ft_create", "ft_destroy", "ft_status_name",
                                         "ft_schedule_factor", "ft_activation_kind", "ft_task_name"}; /* no object to be NULL */
    FILE *file = fopen("finetune.h", "r");
    char line[300], name[80];
    ft_node none = {0};
    int found = 0;
    if (!file) {
        SKIP("finetune.h is not here");
        return;
    }
    while (fgets(line, sizeof line, file) && !strstr(line, "Stop here unless")) {
        const char *at = strncmp(line, "FINETUNE_API ", 13) ? NULL : strchr(line, '(');
        size_t bytes = 0;
        bool listed = false;
        int which, i;
        if (!at) continue;
        while (at - bytes > line && (at[-1 - (long)bytes] == '_'
                                     || strchr("abcdefghijklmnopqrstuvwxyz0123456789",
                                               at[-1 - (long)bytes]))) ++bytes;
        snprintf(name, sizeof name, "%.*s(", (int)bytes, at - bytes);
        found += 1;
        for (which = 0; !listed && call(which, NULL, none, false); ++which)
            listed = strncmp(what, name, strlen(name)) == 0;
        for (i = 0; !listed && i < 6; ++i) listed = strncmp(others[i], name, bytes) == 0;
        CHECK(listed, "%s is not tried with NULL", name);
    }
    fclose(file);
    CHECK(found > 100, "%d functions found", found);
}

/* In a process of its own: 0 it returned, 1 it left an error, -1 it crashed. */
static int try_call(int which, int kind)
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        ft_node x = {0};
        ft_model *m = kind == 0 ? NULL : kind == 1 ? new_model() : network(&x);
        call(which, m, x, true);
        _exit(m && ft_error(m) ? 11 : 10);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status) == 10 || WEXITSTATUS(status) == 11 ? WEXITSTATUS(status) - 10 : -1;
}

/* Asks the OpenCL driver for its devices, if there is one: some drivers end the process (PoCL where
   there is no /sys). */
static void list_devices(void)
{
    ft_device_info one;
    ft_model *m = new_model();
    ft_devices(m, &one, 1);
    ft_destroy(m);
}

static void test_null(void)
{
    static const char *const kinds[] = {"without a model", "with an empty model", "with a network"};
    static const char *const errors[] = { /* a network must have an error then */
        "ft_load", "ft_network", "ft_load_weights", "ft_load_graph", "ft_save", "ft_file_open", "ft_reshape",
        "ft_concat", "ft_permute", "ft_activation", "ft_constant", "ft_binary", "ft_unary",
        "ft_reduce", "ft_custom", "ft_get", "ft_set", "ft_get_gradient",
        "ft_tokenizer_load", "ft_tokenizer_build", "ft_data_source", "ft_image_folder", "ft_pixels", "ft_arrays",
        "ft_texts", "ft_text_streams", "ft_completions", "ft_finetune", "ft_fit", "ft_find_learning_rate",
        "ft_sweep", "ft_evaluate", "ft_calibrate", "ft_feed",
        "ft_swap_activations", "ft_set_groups", "ft_predict_file", "ft_predict_memory", "ft_predict_pixels",
        "ft_predict_text", "ft_predict_data", "ft_run", "ft_run_lengths"};
    const size_t count = sizeof errors / sizeof errors[0];
    bool driver_ends = !check_survives(list_devices);
    ft_node none = {0};
    int which, kind;
    size_t i;
    if (driver_ends) SKIP("the OpenCL driver ends the process here");
    for (which = 0; call(which, NULL, none, false); ++which)
        for (kind = 0; kind < 3; ++kind) {
            int result;
            if (driver_ends && kind > 0 && strncmp(what, "ft_devices(", 11) == 0) continue;
            result = try_call(which, kind);
            CHECK(result >= 0, "%s crashes %s", what, kinds[kind]);
            for (i = 0; kind == 2 && i < count; ++i)
                if (strncmp(what, errors[i], strlen(errors[i])) == 0
                    && what[strlen(errors[i])] == '(')
                    CHECK(result == 1, "%s leaves no error", what);
        }
}

static void *no_memory(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    (void)bytes;
    (void)alignment;
    return NULL;
}

static void release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)memory;
    (void)bytes;
}

/* The program at the top of finetune.h, where there is no memory for a model. */
static void test_first_program(void)
{
    ft_desc desc;
    ft_load_options load;
    ft_image_folder_options folder;
    ft_finetune_options finetune;
    ft_save_options save;
    ft_finetune_result r;
    ft_model *m;
    ft_data *photos;
    memset(&desc, 0, sizeof desc);
    memset(&load, 0, sizeof load);
    memset(&folder, 0, sizeof folder);
    memset(&finetune, 0, sizeof finetune);
    memset(&save, 0, sizeof save);
    desc.allocator.allocate = no_memory;
    desc.allocator.release = release;
    m = ft_create(desc);
    CHECK(m == NULL, "a model without memory");
    CHECK(ft_load(m, "resnet18.safetensors", load) == FT_MEMORY, "ft_load");
    photos = ft_image_folder(m, "photos", folder);
    CHECK(photos == NULL, "ft_image_folder");
    r = ft_finetune(m, photos, finetune);
    CHECK(r.choice[0] == 0 && r.fit.epochs == 0, "ft_finetune: %s", r.choice);
    CHECK(ft_save(m, "mine.safetensors", save) == FT_MEMORY, "ft_save");
    CHECK(ft_error(m) == FT_MEMORY && *ft_error_text(m), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Numbers ---- */

/* The error of the last call is that an argument is wrong, with these words; the model lives on. */
static void refused(ft_model *m, const char *words)
{
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), words), "%s: %s (%s)", words,
          ft_error_text(m), ft_status_name(ft_error(m)));
    ft_clear_error(m);
    CHECK(!ft_error(m) && !strcmp(ft_error_text(m), ""), "cleared: %d, \"%s\"", ft_error(m), ft_error_text(m));
}

static const float bad[] = {NAN, INFINITY, -1}; /* where a number from 0 on is expected */
enum { BAD = 3 };

static void test_rates(void)
{
    float values[3] = {1, 2, 3}, before[6], after[6];
    int labels[1] = {1}, i;
    ft_node x;
    ft_model *m = network(&x);
    ft_get(m, ft_find(m, "fc.weight"), before, 6);
    for (i = 0; i < BAD; ++i) {
        ft_feed(m, ft_find(m, "input"), values, 1);
        ft_feed(m, ft_find(m, "labels"), labels, 1);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, bad[i]);
        refused(m, "learning_rate");
        ft_scale_learning_rate(m, "*", bad[i]);
        refused(m, "factor");
        if (i < 2) {
            ft_set_weight_decay(m, "*", bad[i]);
            refused(m, "ft_set_weight_decay");
        }
    }
    ft_get(m, ft_find(m, "fc.weight"), after, 6);
    CHECK(memcmp(before, after, sizeof before) == 0, "weights moved");
    ft_initialise(m, "*", (ft_initialiser)99);
    refused(m, "initialiser 99");
    ft_plan(m, 0, false);
    refused(m, "at least 1");
    ft_concat(m, "c", -1, &x, 1);
    refused(m, "-1 inputs");
    ft_destroy(m);
}

static void test_training_options(void)
{
    float values[6] = {1, 2, 3, 4, 5, 6};
    int labels[2] = {0, 1}, i, k;
    ft_node x;
    ft_model *m = network(&x);
    ft_array_options arrays;
    ft_data *data;
    memset(&arrays, 0, sizeof arrays);
    data = ft_arrays(m, 2, values, labels, arrays);
    for (i = 0; i < BAD; ++i)
        for (k = 0; k < 6; ++k) {
            static const char *const words[] = {"learning rate", "weight decay", "eps",
                                                "clip_norm", "warmup_epochs", "gamma"};
            ft_fit_options fit;
            memset(&fit, 0, sizeof fit);
            fit.epochs = 1;
            if (k == 0) fit.optimizer.learning_rate = bad[i];
            if (k == 1) fit.optimizer.weight_decay = bad[i];
            if (k == 2) fit.optimizer.eps = bad[i];
            if (k == 3) fit.optimizer.clip_norm = bad[i];
            if (k == 4) fit.warmup_epochs = bad[i];
            if (k == 5) fit.gamma = bad[i];
            if (k == 5) fit.schedule = FT_STEP;
            ft_fit(m, data, fit);
            refused(m, words[k]);
            if (k > 3) continue;
            ft_set_optimizer(m, fit.optimizer);
            refused(m, words[k]);
        }
    for (i = 0; i < BAD; ++i) {
        ft_finetune_options finetune;
        memset(&finetune, 0, sizeof finetune);
        finetune.learning_rate = bad[i];
        ft_finetune(m, data, finetune);
        refused(m, "learning_rate is");
    }
    ft_destroy(m);
}

static void test_layer_options(void)
{
    int i;
    ft_node x;
    ft_model *m = network(&x);
    for (i = 0; i < BAD; ++i) {
        ft_dropout_options dropout;
        ft_layer_norm_options layer;
        ft_rms_norm_options rms;
        ft_group_norm_options group;
        ft_batch_norm_options batch;
        ft_activation_options activation;
        ft_recurrent_options recurrent;
        ft_attention_options attention;
        ft_rotary_options rotary;
        ft_network_options network_options;
        ft_loss_options loss;
        ft_preprocessing p;
        ft_input_options in;
        ft_node steps;
        memset(&dropout, 0, sizeof dropout);
        memset(&layer, 0, sizeof layer);
        memset(&rms, 0, sizeof rms);
        memset(&group, 0, sizeof group);
        memset(&batch, 0, sizeof batch);
        memset(&activation, 0, sizeof activation);
        memset(&recurrent, 0, sizeof recurrent);
        memset(&attention, 0, sizeof attention);
        memset(&rotary, 0, sizeof rotary);
        memset(&network_options, 0, sizeof network_options);
        memset(&loss, 0, sizeof loss);
        memset(&p, 0, sizeof p);
        memset(&in, 0, sizeof in);
        dropout.probability = layer.eps = batch.eps = loss.label_smoothing = bad[i];
        ft_dropout(m, "drop", x, dropout);
        refused(m, "probability");
        ft_layer_norm(m, i == 0 ? "ln0" : i == 1 ? "ln1" : "ln2", x, layer);
        refused(m, "eps");
        rms.eps = bad[i];
        ft_rms_norm(m, i == 0 ? "rms0" : i == 1 ? "rms1" : "rms2", x, rms);
        refused(m, "eps");
        rms.eps = 0;
        rms.size = 1000 * i - 1;
        ft_rms_norm(m, "rms", x, rms);
        refused(m, "size");
        group.no_affine = true;
        group.groups = 1;
        group.eps = bad[i];
        ft_group_norm(m, "group", x, group);
        refused(m, "eps");
        ft_batch_norm(m, i == 0 ? "bn0" : i == 1 ? "bn1" : "bn2", x, batch);
        refused(m, "eps");
        ft_cross_entropy(m, "ce", x, ft_find(m, "labels"), loss);
        refused(m, "label_smoothing");
        if (i < 2) {
            activation.slope = bad[i];
            ft_activation(m, "leaky_relu", "leak", x, activation);
            refused(m, "slope");
            activation.slope = 0;
            activation.alpha = bad[i];
            ft_activation(m, "elu", "elu", x, activation);
            refused(m, "alpha");
        }
        in.size[0] = FT_LENGTH;
        in.size[1] = 2;
        steps = ft_input(m, i == 0 ? "s0" : i == 1 ? "s1" : "s2", in);
        attention.scale = bad[i];
        ft_attention(m, "attention", steps, steps, steps, attention);
        refused(m, "scale");
        rotary.base = bad[i];
        ft_rotary(m, "rotary", steps, rotary);
        refused(m, "base");
        rotary.base = 0;
        rotary.scaling = FT_ROTARY_LINEAR;
        rotary.factor = bad[i];
        ft_rotary(m, "rotary", steps, rotary);
        refused(m, "factor");
        recurrent.weight_drop = bad[i];
        ft_gru(m, i == 0 ? "gru0" : i == 1 ? "gru1" : "gru2", steps, 2, recurrent);
        refused(m, "probability");
        recurrent.weight_drop = 0;
        recurrent.dropout = bad[i];
        recurrent.layers = 2;
        ft_gru(m, i == 0 ? "gru3" : i == 1 ? "gru4" : "gru5", steps, 2, recurrent);
        refused(m, "probability");
        p.width = p.height = p.channels = 1;
        p.std[0] = bad[i];
        ft_set_preprocessing(m, p);
        refused(m, "std");
        p.std[0] = 1;
        p.mean[0] = bad[i];
        ft_set_preprocessing(m, p);
        if (i < 2) refused(m, "mean");
        network_options.dropout = bad[i];
        {
            ft_model *text = new_model();
            ft_network(text, "lstm_classifier", network_options);
            refused(text, "probability");
            network_options.dropout = 0;
            network_options.width = bad[i];
            ft_network(text, "mobilenet_v1", network_options);
            refused(text, "width");
            ft_destroy(text);
        }
    }
    ft_destroy(m);
}

static void test_generation(void)
{
    static const char *const texts[] = {"some letters"};
    ft_model *m = new_model();
    ft_network_options options;
    ft_vocabulary_options vocabulary;
    ft_generate_options generate;
    int i, k;
    memset(&options, 0, sizeof options);
    memset(&vocabulary, 0, sizeof vocabulary);
    ft_set_tokenizer(m, ft_tokenizer_build(m, FT_CHARACTERS, texts, 1, vocabulary));
    options.words = ft_tokenizer_count(ft_get_tokenizer(m));
    options.hidden = 4;
    ft_network(m, "char_rnn", options);
    for (i = 0; i < BAD; ++i)
        for (k = 0; k < 2; ++k) {
            memset(&generate, 0, sizeof generate);
            if (k == 0) generate.temperature = bad[i];
            if (k == 1) generate.top_p = bad[i];
            CHECK(ft_generate(m, generate) == 0, "tokens");
            refused(m, k == 0 ? "temperature" : "top_p");
        }
    memset(&generate, 0, sizeof generate);
    generate.top_k = -1;
    ft_generate(m, generate);
    refused(m, "top_k -1");
    generate.top_k = 0;
    generate.length = -1;
    ft_generate(m, generate);
    refused(m, "length -1");
    generate.length = 3;
    CHECK(ft_generate(m, generate) == 3 && ft_error(m) == FT_OK && ft_length(m) == 1, "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* ---- Ids, and objects of another model ---- */

static void test_ids(void)
{
    static const int ids[] = {0, -1, 999, INT_MAX};
    float values[8];
    size_t i;
    ft_node x;
    ft_model *m = network(&x);
    for (i = 0; i < sizeof ids / sizeof ids[0]; ++i) {
        ft_node node = {0};
        node.id = ids[i];
        ft_set_output(m, node);
        refused(m, "is not a node");
        ft_set_loss(m, node);
        refused(m, "is not a node");
        ft_feed(m, node, values, 1);
        refused(m, "is not a node");
        ft_get(m, node, values, 1);
        refused(m, "is not a node");
        ft_set(m, node, values, 1);
        refused(m, "is not a node");
        ft_get_gradient(m, node, values, 1);
        refused(m, "is not a node");
        ft_add(m, "sum", x, node);
        refused(m, "is not a node");
        CHECK(*ft_node_name(m, node) == 0 && *ft_node_operator(m, node) == 0
              && ft_node_shape(m, node).rank == 0 && ft_node_inputs(m, node, &x, 1) == 0
              && !ft_node_frozen(m, node) && ft_node_multiply_adds(m, node) == 0
              && CLOSE(ft_node_time(m, node).forward, 0, 0), "node %d", ids[i]);
        CHECK(i == 0 || ft_class_name(m, ids[i]) == NULL, "class %d", ids[i]);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_other_models(void)
{
    static const char *const texts[] = {"a few words"};
    float values[6] = {1, 2, 3, 4, 5, 6};
    int labels[2] = {0, 1};
    ft_node x;
    ft_model *m = network(&x), *other = network(&x);
    ft_array_options arrays;
    ft_fit_options fit;
    ft_evaluate_options evaluate;
    ft_finetune_options finetune;
    ft_vocabulary_options vocabulary;
    ft_text_options text;
    ft_stream_options streams;
    ft_data *data;
    ft_tokenizer *t;
    memset(&arrays, 0, sizeof arrays);
    memset(&fit, 0, sizeof fit);
    memset(&evaluate, 0, sizeof evaluate);
    memset(&finetune, 0, sizeof finetune);
    memset(&vocabulary, 0, sizeof vocabulary);
    memset(&text, 0, sizeof text);
    memset(&streams, 0, sizeof streams);
    data = ft_arrays(other, 2, values, labels, arrays);
    t = ft_tokenizer_build(other, FT_WORDS, texts, 1, vocabulary);
    ft_fit(m, data, fit);
    refused(m, "another model");
    ft_evaluate(m, data, evaluate);
    refused(m, "another model");
    ft_finetune(m, data, finetune);
    refused(m, "another model");
    ft_set_tokenizer(m, t);
    refused(m, "another model");
    text.memory = "text\tlabel\na b\tx\nc d\ty\n";
    text.bytes = strlen((const char *)text.memory);
    text.tokenizer = t;
    CHECK(ft_texts(m, NULL, text) == NULL, "texts");
    refused(m, "another model");
    streams.memory = "a few words";
    streams.bytes = 11;
    streams.tokenizer = t;
    CHECK(ft_text_streams(m, NULL, streams) == NULL, "streams");
    refused(m, "another model");
    CHECK(ft_error(other) == FT_OK, "%s", ft_error_text(other));
    ft_destroy(m);
    ft_destroy(other);
}

/* What ft_desc takes only as a whole. */
static void test_halves(void)
{
    char arena[64];
    int i;
    for (i = 0; i < 3; ++i) {
        ft_desc desc;
        ft_model *m;
        memset(&desc, 0, sizeof desc);
        if (i == 0) desc.allocator.allocate = no_memory;
        if (i == 1) desc.arena = arena;
        if (i == 2) desc.arena_bytes = 1 << 20;
        m = ft_create(desc);
        CHECK(m != NULL, "%d", i);
        refused(m, i == 0 ? "set both allocate and release, or neither"
                      : "set both arena and arena_bytes, or neither");
        ft_destroy(m);
    }
}

/* ft_activation_kind lists what ft_activation takes, and the error for another kind names each. */
static void test_activation_kinds(void)
{
    ft_desc desc;
    ft_input_options row;
    ft_activation_options plain;
    ft_model *m;
    ft_node x;
    const char *kind;
    int i, gelu = 0;
    memset(&desc, 0, sizeof desc);
    memset(&row, 0, sizeof row);
    memset(&plain, 0, sizeof plain);
    row.size[0] = 4; /* glu halves it */
    m = ft_create(desc);
    x = ft_input(m, "x", row);
    for (i = 0; (kind = ft_activation_kind(i)) != NULL; ++i) {
        CHECK(ft_activation(m, kind, kind, x, plain).id > 0, "%s: %s", kind, ft_error_text(m));
        gelu += !strcmp(kind, "gelu");
    }
    CHECK(i >= 13 && gelu == 1, "%d kinds, gelu %d times", i, gelu);
    CHECK(!ft_activation_kind(-1) && !ft_activation_kind(i + 1), "only an index has a kind");
    CHECK(!ft_activation(m, "linear", "y", x, plain).id, "an operator that is no activation");
    for (i = 0; (kind = ft_activation_kind(i)) != NULL; ++i)
        CHECK(strstr(ft_error_text(m), kind), "the error does not name %s: %s", kind,
              ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    test_rates();
    test_training_options();
    test_layer_options();
    test_generation();
    test_ids();
    test_other_models();
    test_halves();
    test_activation_kinds();
    test_list_is_whole();
    test_null();
    test_first_program();
    return check_done("test_arguments");
}
