#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/folders.h"
#include "graph/settings.h"
#include "text/tokenizer_files.h"
#include "networks/encoders.h"

/* =============================================================================================
   [SECTION] networks/configs: Folders as Hugging Face writes them
   A folder has config.json (what the shapes of weights do not say), the weights in
   model.safetensors or pytorch_model.bin, tokenizer.json or vocab.txt, and, from
   sentence-transformers, 1_Pooling/config.json. A field of config.json that changes the result and
   is not implemented is an error that names it.
   ============================================================================================= */
/* The path of the first of these files that a folder has; NULL: none. Released by the caller. */
static char *ft__first_in_folder(ft__context *c, const char *folder, const char *const *names)
{
    for (; *names; ++names) {
        char *path = ft__join_path(c, folder, *names);
        if (path && ft__file_exists(c, path)) return path;
        ft__release(c, path);
    }
    return NULL;
}

/* The JSON of a file in a folder; NULL if there is none, or with an error. */
static ft__json *ft__folder_json(ft__context *c, const char *folder, const char *name)
{
    const char *names[2] = {NULL, NULL};
    unsigned char *content = NULL;
    ft__json *json = NULL;
    char *path;
    size_t bytes;
    names[0] = name;
    path = ft__first_in_folder(c, folder, names);
    if (path) content = ft__read_file(c, path, &bytes);
    if (content) json = ft__json_parse(c, (const char *)content, bytes);
    if (content && !json && ft__ok(c)) ft__fail(c, FT_FORMAT, "%s: not JSON", path);
    ft__release(c, content);
    ft__release(c, path);
    return json;
}

/* A field of config.json, and the option that it sets. */
typedef struct ft__config_field {
    const char *name;       /* bert's, roberta's ... */
    const char *other;      /* ... and distilbert's, NULL: the same */
    size_t offset;          /* in ft_network_options */
    char kind;              /* 'i' int, 'f' float */
} ft__config_field;

#define FT__CONFIG(name, other, option, kind)                                                     \
    {name, other, offsetof(ft_network_options, option), kind}

static const ft__config_field ft__config_fields[] = {
    FT__CONFIG("num_attention_heads", "n_heads", heads, 'i'),
    FT__CONFIG("layer_norm_eps", NULL, norm_eps, 'f'),
    FT__CONFIG("hidden_dropout_prob", "dropout", dropout, 'f')};

static void ft__config_number(ft__context *c, const ft__json *json, const char *folder,
                              const ft__config_field *field, ft_network_options *o)
{
    int value = ft__json_member(json, 0, field->name);
    double number = 0;
    char *to = (char *)o + field->offset;
    if (value < 0 && field->other) value = ft__json_member(json, 0, field->other);
    if (value < 0 || ft__json_at(json, value, '0')) return;
    if (!ft__json_double(json, value, &number) || !(number >= 0 && number < 1e6)) {
        ft__fail(c, FT_FORMAT, "%s/config.json: %s is not a number from 0 to 10^6", folder,
                 json->values[value].key);
        return;
    }
    if (field->kind == 'f' && *(float *)(void *)to == 0) *(float *)(void *)to = (float)number;
    if (field->kind == 'i' && *(int *)(void *)to == 0) *(int *)(void *)to = (int)number;
}

/* Refuses fields with another value than the implemented one; absent and null are that one. */
static void ft__config_refuse(ft__context *c, const ft__json *json, const char *folder)
{
    static const char *const only[][2] = {
        {"position_embedding_type", "absolute"}, {"is_decoder", "false"},
        {"add_cross_attention", "false"}, {"chunk_size_feed_forward", "0"},
        {"problem_type", "single_label_classification"}};
    size_t i;
    for (i = 0; i < sizeof only / sizeof only[0]; ++i) {
        int value = ft__json_member(json, 0, only[i][0]);
        const char *text = ft__json_string(json, value), *want = only[i][1];
        int64_t number = 1;
        bool fits = value < 0 || ft__json_at(json, value, '0')
            || (text && !strcmp(text, want))
            || (!strcmp(want, "false") && ft__json_at(json, value, 'f'))
            || (!strcmp(want, "0") && ft__json_int(json, value, &number) && number == 0);
        if (!fits)
            ft__fail(c, FT_UNSUPPORTED, "%s/config.json: %s is %s; only %s is supported", folder,
                     only[i][0], text ? text : "another value", want);
    }
}

/* Says what is not done in training and changes no prediction. */
static void ft__config_say(ft__context *c, const ft__json *json, const char *folder)
{
    static const char *const names[] = {"attention_probs_dropout_prob", "attention_dropout"};
    double share = 0;
    int i;
    for (i = 0; i < 2; ++i)
        if (ft__json_double(json, ft__json_member(json, 0, names[i]), &share) && share > 0)
            ft__log(c, "%s/config.json: %s (%g) is not applied: attention has no dropout yet",
                    folder, names[i], share);
}

static const char *ft__config_activation(ft__context *c, const ft__json *json, const char *folder)
{
    static const char *const known[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu",
                                        "tanh", "mish"};
    int value = ft__json_member(json, 0, "hidden_act");
    const char *kind;
    size_t i;
    if (value < 0) value = ft__json_member(json, 0, "activation");
    kind = ft__json_string(json, value);
    if (value < 0) return NULL;
    for (i = 0; kind && i < sizeof known / sizeof known[0]; ++i)
        if (!strcmp(kind, known[i])) return known[i];
    ft__fail(c, FT_UNSUPPORTED, "%s/config.json: %s is %s; it must be gelu, gelu_new, relu, silu,"
             " tanh or mish", folder, json->values[value].key, kind ? kind : "not a text");
    return NULL;
}

/* Sets what config.json says and the caller left open. */
static void ft__read_config(ft__context *c, const char *folder, const ft__json *json,
                            ft_load_options *o)
{
    const char *type = ft__json_string(json, ft__json_member(json, 0, "model_type"));
    size_t i;
    int k = 0;
    while (k < FT__ENCODERS && (!type || strcmp(type, ft__encoders[k].network) != 0)) ++k;
    if (k == FT__ENCODERS) {
        ft__fail(c, FT_UNSUPPORTED, "%s/config.json: model_type is %s; it must be bert, roberta or"
                 " distilbert", folder, type ? type : "missing");
        return;
    }
    if (!o->architecture) o->architecture = ft__encoders[k].network;
    ft__config_refuse(c, json, folder);
    ft__config_say(c, json, folder);
    for (i = 0; i < sizeof ft__config_fields / sizeof ft__config_fields[0]; ++i)
        ft__config_number(c, json, folder, &ft__config_fields[i], &o->network);
    if (!o->network.activation) o->network.activation = ft__config_activation(c, json, folder);
}

/* What sentence-transformers pools; both spellings of its versions. */
static void ft__read_pooling(ft__context *c, const char *folder, ft_load_options *o)
{
    static const struct { const char *mode, *old; ft_step_pooling kind; } modes[] = {
        {"mean", "pooling_mode_mean_tokens", FT_POOL_MEAN},
        {"max", "pooling_mode_max_tokens", FT_POOL_MAX},
        {"cls", "pooling_mode_cls_token", FT_POOL_FIRST}};
    ft__json *json = ft__folder_json(c, folder, "1_Pooling/config.json");
    const char *mode;
    size_t i;
    int found = 0;
    if (!json) return;
    mode = ft__json_string(json, ft__json_member(json, 0, "pooling_mode"));
    for (i = 0; i < sizeof modes / sizeof modes[0]; ++i)
        if ((mode && !strcmp(mode, modes[i].mode))
            || ft__json_true(json, ft__json_member(json, 0, modes[i].old))) {
            if (o->network.pooling == FT_POOL_LAST) o->network.pooling = modes[i].kind;
            found += 1;
        }
    if (found != 1)
        ft__fail(c, FT_UNSUPPORTED, "%s/1_Pooling/config.json: the pooling must be one of mean, max"
                 " and cls", folder);
    ft__json_free(c, json);
}

/* ---- Class names ---- */

/* The names in id2label, unless they are LABEL_0 and so on; the head must have been in the file. */
static void ft__read_labels(ft_model *m, const ft__json *json)
{
    int labels = ft__json_member(json, 0, "id2label"), count = ft__json_count(json, labels), i;
    const char **names;
    char number[16];
    if (count < 1 || count != ft_class_count(m)) return;
    names = (const char **)ft__allocate(&m->context, (size_t)count, sizeof *names);
    for (i = 0; names && i < count; ++i) {
        snprintf(number, sizeof number, "%d", i);
        names[i] = ft__json_string(json, ft__json_member(json, labels, number));
        if (!names[i] || !strncmp(names[i], "LABEL_", 6)) break;
    }
    if (names && i == count) ft_set_class_names(m, count, names);
    ft__release(&m->context, (void *)(uintptr_t)names);
}

/* ---- The tokeniser ---- */

/* Gives the model the tokeniser of the folder, if it has one. */
static void ft__folder_tokenizer(ft_model *m, const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "vocab.txt", "vocab.json", NULL};
    ft__context *c = &m->context;
    ft_tokenizer_options options;
    ft__json *json = ft__folder_json(c, folder, "tokenizer_config.json");
    char *path = ft__first_in_folder(c, folder, names);
    int lower = json ? ft__json_member(json, 0, "do_lower_case") : -1, most;
    int64_t longest = 0;
    memset(&options, 0, sizeof options);
    options.cased = lower >= 0 && ft__json_at(json, lower, 'f');
    if (FT__HAS_TEXT && path && ft__ok(c))
        ft_set_tokenizer(m, ft_tokenizer_load(m, path, options));
    most = ft_max_length(m);
    if (json && ft__json_int(json, ft__json_member(json, 0, "model_max_length"), &longest)
        && longest > 0 && longest < most) ft_set_max_length(m, (int)longest);
    ft__release(c, path);
    ft__json_free(c, json);
}
