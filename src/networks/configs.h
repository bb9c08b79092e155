#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/folders.h"
#include "graph/settings.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"

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

/* A field of config.json, and the option that it sets if the caller left it open. */
typedef struct ft__config_field {
    const char *name;
    size_t offset;          /* in ft_network_options */
    char kind;              /* 'i' int, 'f' float, 'a' activation (const char *), 'n' bool that is
                               set where the field is false, 'r' an object, ft_rotary_options */
} ft__config_field;

/* A field that changes the result, with the one value of it that is implemented. Where the field is
   absent or null it has that value. */
typedef struct ft__config_only { const char *name, *value; } ft__config_only;

/* How config.json is read whose model_type is `type`. Lists end with a row without a name. */
typedef struct ft__config_family {
    const char *type;
    const char *network;    /* the network that it describes */
    const ft__config_field *fields;
    const ft__config_only *only;
} ft__config_family;

#define FT__CONFIG(name, option, kind) {name, offsetof(ft_network_options, option), kind}

static const ft__config_field ft__bert_fields[] = {
    FT__CONFIG("num_attention_heads", heads, 'i'), FT__CONFIG("layer_norm_eps", norm_eps, 'f'),
    FT__CONFIG("hidden_dropout_prob", dropout, 'f'), FT__CONFIG("hidden_act", activation, 'a'),
    FT__CONFIG("attention_probs_dropout_prob", attention_dropout, 'f'), {NULL, 0, 0}};
static const ft__config_field ft__distilbert_fields[] = {
    FT__CONFIG("n_heads", heads, 'i'), FT__CONFIG("dropout", dropout, 'f'),
    FT__CONFIG("attention_dropout", attention_dropout, 'f'),
    FT__CONFIG("activation", activation, 'a'), {NULL, 0, 0}};
static const ft__config_only ft__encoder_only[] = {
    {"position_embedding_type", "absolute"}, {"is_decoder", "false"},
    {"add_cross_attention", "false"}, {"chunk_size_feed_forward", "0"},
    {"problem_type", "single_label_classification"}, {NULL, NULL}};

/* Biases and the numbers of words and layers are in the shapes of the weights. */
static const ft__config_field ft__gpt2_fields[] = {
    FT__CONFIG("n_head", heads, 'i'), FT__CONFIG("layer_norm_epsilon", norm_eps, 'f'),
    FT__CONFIG("resid_pdrop", dropout, 'f'), FT__CONFIG("activation_function", activation, 'a'),
    FT__CONFIG("attn_pdrop", attention_dropout, 'f'), {NULL, 0, 0}};
static const ft__config_field ft__llama_fields[] = {
    FT__CONFIG("num_attention_heads", heads, 'i'),
    FT__CONFIG("num_key_value_heads", key_value_heads, 'i'), FT__CONFIG("head_dim", head_size, 'i'),
    FT__CONFIG("rms_norm_eps", norm_eps, 'f'), FT__CONFIG("hidden_act", activation, 'a'),
    FT__CONFIG("max_position_embeddings", positions, 'i'),
    FT__CONFIG("tie_word_embeddings", untied, 'n'), FT__CONFIG("rope_parameters", rotary, 'r'),
    FT__CONFIG("rope_scaling", rotary, 'r'), FT__CONFIG("rope_theta", rotary.base, 'f'),
    FT__CONFIG("attention_dropout", attention_dropout, 'f'), {NULL, 0, 0}};
static const ft__config_only ft__gpt2_only[] = {
    {"scale_attn_weights", "true"}, {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"}, {"tie_word_embeddings", "true"},
    {"problem_type", "single_label_classification"}, {NULL, NULL}};
static const ft__config_only ft__llama_only[] = {
    {"use_sliding_window", "false"}, {"partial_rotary_factor", "1"}, {"no_rope_layers", "null"},
    {"problem_type", "single_label_classification"}, {NULL, NULL}};
static const ft__config_field ft__vision_fields[] = {
    FT__CONFIG("num_attention_heads", heads, 'i'), FT__CONFIG("layer_norm_eps", norm_eps, 'f'),
    FT__CONFIG("hidden_dropout_prob", dropout, 'f'), FT__CONFIG("hidden_act", activation, 'a'),
    FT__CONFIG("attention_probs_dropout_prob", attention_dropout, 'f'),
    FT__CONFIG("drop_path_rate", drop_path, 'f'), {NULL, 0, 0}};
static const ft__config_only ft__vision_only[] = {
    {"problem_type", "single_label_classification"}, {"use_swiglu_ffn", "false"}, {NULL, NULL}};

static const ft__config_family ft__config_families[] = {
    {"bert", "bert", ft__bert_fields, ft__encoder_only},
    {"roberta", "roberta", ft__bert_fields, ft__encoder_only},
    {"distilbert", "distilbert", ft__distilbert_fields, ft__encoder_only},
    {"gpt2", "gpt2", ft__gpt2_fields, ft__gpt2_only},
    {"llama", "llama", ft__llama_fields, ft__llama_only},
    {"qwen2", "qwen2", ft__llama_fields, ft__llama_only},
    {"qwen3", "qwen3", ft__llama_fields, ft__llama_only},
    {"vit", "vit", ft__vision_fields, ft__vision_only},
    {"deit", "deit", ft__vision_fields, ft__vision_only},
    {"dinov2", "dinov2", ft__vision_fields, ft__vision_only}};
enum { FT__CONFIG_FAMILIES = sizeof ft__config_families / sizeof ft__config_families[0] };

/* The name of an activation of config.json, if it is known. */
static const char *ft__config_activation(ft__context *c, const ft__json *json, int value,
                                         const char *folder)
{
    static const char *const known[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu",
                                        "tanh", "mish", "quick_gelu"};
    const char *kind = ft__json_string(json, value);
    size_t i;
    for (i = 0; kind && i < sizeof known / sizeof known[0]; ++i)
        if (!strcmp(kind, known[i])) return known[i];
    ft__fail(c, FT_UNSUPPORTED, "%s/config.json: %s is %s; it must be gelu, gelu_new, relu, silu,"
             " tanh, mish or quick_gelu", folder, json->values[value].key,
             kind ? kind : "not a text");
    return NULL;
}

/* Sets a float that is still 0 to a number of an object, if it has it. */
static void ft__config_into(const ft__json *json, int object, const char *name, float *to)
{
    double number = 0;
    if (*to == 0 && ft__json_double(json, ft__json_member(json, object, name), &number))
        *to = (float)number;
}

/* rope_parameters, or, of older versions, rope_scaling. */
static void ft__config_rotary(ft__context *c, const ft__json *json, int object, const char *folder,
                              ft_rotary_options *o)
{
    static const char *const kinds[] = {"default", "linear", "llama3"};
    int kind = ft__json_member(json, object, "rope_type"), i = 0;
    const char *text;
    double number = 1;
    if (kind < 0) kind = ft__json_member(json, object, "type");
    text = kind < 0 ? kinds[0] : ft__json_string(json, kind);
    while (i < 3 && (!text || strcmp(text, kinds[i]) != 0)) ++i;
    if (i == 3 || !ft__json_at(json, object, 'o'))
        ft__fail(c, FT_UNSUPPORTED, "%s/config.json: the rope_type is %s; it must be default,"
                 " linear or llama3", folder, text ? text : "no text");
    kind = ft__json_member(json, object, "partial_rotary_factor");
    if (ft__json_double(json, kind, &number) && number != 1)
        ft__fail(c, FT_UNSUPPORTED, "%s/config.json: partial_rotary_factor is %g; only 1 is"
                 " supported", folder, number);
    ft__config_into(json, object, "rope_theta", &o->base);
    if (i == FT_ROTARY_DEFAULT || o->scaling != FT_ROTARY_DEFAULT || !ft__ok(c)) return;
    o->scaling = (ft_rotary_scaling)i;
    ft__config_into(json, object, "factor", &o->factor);
    if (i != FT_ROTARY_LLAMA3) return;
    ft__config_into(json, object, "low_freq_factor", &o->low_frequency_factor);
    ft__config_into(json, object, "high_freq_factor", &o->high_frequency_factor);
    kind = ft__json_member(json, object, "original_max_position_embeddings");
    if (ft__json_double(json, kind, &number) && number >= 1 && number < 1e9)
        o->original_length = (int)number;
}

static void ft__config_read_field(ft__context *c, const ft__json *json, const char *folder,
                                  const ft__config_field *field, ft_network_options *o)
{
    int value = ft__json_member(json, 0, field->name);
    double number = 0;
    void *to = (char *)o + field->offset;
    if (value < 0 || ft__json_at(json, value, '0')) return;
    if (field->kind == 'a') {
        const char **activation = (const char **)to;
        if (!*activation) *activation = ft__config_activation(c, json, value, folder);
        return;
    }
    if (field->kind == 'r') {
        ft__config_rotary(c, json, value, folder, (ft_rotary_options *)to);
        return;
    }
    if (field->kind == 'n') {
        if (ft__json_at(json, value, 'f')) *(bool *)to = true;
        return;
    }
    if (!ft__json_double(json, value, &number) || !(number >= 0 && number < 1e9)) {
        ft__fail(c, FT_FORMAT, "%s/config.json: %s is not a number from 0 to 10^9", folder,
                 json->values[value].key);
        return;
    }
    if (field->kind == 'f' && *(float *)to == 0) *(float *)to = (float)number;
    if (field->kind == 'i' && *(int *)to == 0) *(int *)to = (int)number;
}

/* Refuses a field with another value than the implemented one. */
static void ft__config_refuse(ft__context *c, const ft__json *json, const char *folder,
                              const ft__config_only *only)
{
    int value = ft__json_member(json, 0, only->name);
    const char *text = ft__json_string(json, value), *want = only->value;
    double number = -1;
    bool fits = value < 0 || ft__json_at(json, value, '0')
        || (text && !strcmp(text, want))
        || (!strcmp(want, "false") && ft__json_at(json, value, 'f'))
        || (!strcmp(want, "true") && ft__json_at(json, value, 't'))
        || ((!strcmp(want, "0") || !strcmp(want, "1")) && ft__json_double(json, value, &number)
            && number == (*want == '1'));
    if (!fits)
        ft__fail(c, FT_UNSUPPORTED, "%s/config.json: %s is %s; only %s is supported", folder,
                 only->name, text ? text : "another value", want);
}

/* Refuses layers whose attention sees a part of the text, in the list of newer versions. */
static void ft__config_layers(ft__context *c, const ft__json *json, const char *folder)
{
    int list = ft__json_member(json, 0, "layer_types"), i;
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        const char *kind = ft__json_string(json, i);
        if (kind && strcmp(kind, "full_attention") != 0)
            ft__fail(c, FT_UNSUPPORTED, "%s/config.json: layer_types has %s; only full_attention is"
                     " supported", folder, kind);
    }
}

/* Fails because the model_type is none of ours, with a list of them. */
static void ft__config_unknown(ft__context *c, const char *folder, const char *type)
{
    char list[400];
    size_t at = 0;
    int i;
    for (i = 0; i < FT__CONFIG_FAMILIES && at < sizeof list - 60; ++i)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%.40s",
                               i == 0 ? "" : i == FT__CONFIG_FAMILIES - 1 ? " or " : ", ",
                               ft__config_families[i].type);
    ft__fail(c, FT_UNSUPPORTED, "%s/config.json: model_type is %s; it must be %s", folder,
             type ? type : "missing", list);
}

/* Whether the first of `architectures` ends so. */
static bool ft__config_is(const ft__json *json, const char *end)
{
    int list = ft__json_member(json, 0, "architectures");
    const char *name = ft__json_string(json, ft__json_element(json, list, 0));
    return name && ft__ends_with(name, end);
}

/* Sets what config.json says and the caller left open. */
static void ft__read_config(ft__context *c, const char *folder, const ft__json *json,
                            ft_load_options *o)
{
    const char *type = ft__json_string(json, ft__json_member(json, 0, "model_type"));
    const ft__config_family *family = ft__config_families;
    const ft__config_field *field;
    const ft__config_only *only;
    const char *problem = ft__json_string(json, ft__json_member(json, 0, "problem_type"));
    int k = 0;
    if ((!type || !strcmp(type, "timm_wrapper"))
        && ft__json_member(json, 0, "pretrained_cfg") >= 0) return; /* timm's: the file shows it */
    while (k < FT__CONFIG_FAMILIES && (!type || strcmp(type, family[k].type) != 0)) ++k;
    if (k == FT__CONFIG_FAMILIES) {
        ft__config_unknown(c, folder, type);
        return;
    }
    family += k;
    if (!o->architecture) o->architecture = family->network;
    if (o->network.task == FT_TASK_AUTO && ft__config_is(json, "ForTokenClassification"))
        o->network.task = FT_TASK_TOKENS;
    if (problem && !strcmp(problem, "regression") && o->network.task == FT_TASK_AUTO)
        o->network.task = FT_TASK_REGRESSION;
    for (only = family->only; only->name; ++only)
        if (o->network.task != FT_TASK_REGRESSION || strcmp(only->name, "problem_type") != 0)
            ft__config_refuse(c, json, folder, only);
    ft__config_layers(c, json, folder);
    for (field = family->fields; field->name; ++field)
        ft__config_read_field(c, json, folder, field, &o->network);
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

/* False, and a line in the log: sentence-transformers puts a prompt before every text. */
static bool ft__reads_prompts(ft__context *c, const char *folder)
{
    ft__json *json = ft__folder_json(c, folder, "config_sentence_transformers.json");
    int prompts = json ? ft__json_member(json, 0, "prompts") : -1;
    const char *name = json ? ft__json_string(json, ft__json_member(json, 0, "default_prompt_name"))
                            : NULL;
    const char *text = name ? ft__json_string(json, ft__json_member(json, prompts, name)) : NULL;
    bool none = !text || !*text;
    if (!none)
        ft__log(c, "%s/config_sentence_transformers.json: the prompt \"%.100s\" before each text is"
                " not supported: the vectors of texts are unknown", folder, text);
    ft__json_free(c, json);
    return none;
}

/* Sets what modules.json says that is done after the pooling. False, and a line in the log: it does
   something else there, so what the pooling gives is not the vector of a text. */
static bool ft__read_modules(ft__context *c, const char *folder, ft_load_options *o)
{
    static const char *const known[] = {"Transformer", "Pooling", "Normalize"};
    ft__json *json = ft__folder_json(c, folder, "modules.json");
    int module, i = 0;
    for (module = 1; json && i < 3 && module < json->values[0].next;
         module = json->values[module].next) {
        const char *type = ft__json_string(json, ft__json_member(json, module, "type"));
        const char *name = type ? strrchr(type, '.') : NULL;
        name = name ? name + 1 : type ? type : "a module without a type";
        for (i = 0; i < 3 && strcmp(name, known[i]) != 0; ++i) {}
        if (i == 2) o->network.normalize = true;
        if (i == 3)
            ft__log(c, "%s/modules.json: %s is not supported: the vectors of texts are unknown",
                    folder, name);
    }
    ft__json_free(c, json);
    return i < 3 && ft__reads_prompts(c, folder);
}

/* How many tokens of a text sentence-transformers reads; 0: the folder does not say. */
static int ft__folder_length(ft__context *c, const char *folder)
{
    ft__json *json = ft__folder_json(c, folder, "sentence_bert_config.json");
    int64_t longest = 0;
    if (!json || !ft__json_int(json, ft__json_member(json, 0, "max_seq_length"), &longest)
        || longest < 1 || longest > INT_MAX) longest = 0;
    ft__json_free(c, json);
    return (int)longest;
}

/* ---- Class names ---- */

/* The names in id2label, unless they are LABEL_0 and so on, which a network that classifies tokens
   keeps: they tell it from a language model. The head must have been in the file. */
static void ft__read_labels(ft_model *m, const ft__json *json)
{
    int labels = ft__json_member(json, 0, "id2label"), count = ft__json_count(json, labels), i;
    const char **names;
    char number[16];
    bool samples = ft__classifies_samples(m);
    if (count < 1 || count != ft__output_classes(m)) return;
    names = (const char **)ft__allocate(&m->context, (size_t)count, sizeof *names);
    for (i = 0; names && i < count; ++i) {
        snprintf(number, sizeof number, "%d", i);
        names[i] = ft__json_string(json, ft__json_member(json, labels, number));
        if (!names[i] || (samples && !strncmp(names[i], "LABEL_", 6))) break;
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
    ft_tokenizer *t = NULL;
    int lower = json ? ft__json_member(json, 0, "do_lower_case") : -1, most;
    int64_t longest = 0;
    memset(&options, 0, sizeof options);
    options.cased = lower >= 0 && ft__json_at(json, lower, 'f');
    if (FT__HAS_TEXT && path && ft__ok(c)) t = ft_tokenizer_load(m, path, options);
    if (t && json) ft__name_special(t, json);
    if (t) ft_set_tokenizer(m, t);
    most = ft_max_length(m);
    if (json && ft__json_int(json, ft__json_member(json, 0, "model_max_length"), &longest)
        && longest > 0 && longest < most) ft_set_max_length(m, (int)longest);
    most = ft__folder_length(c, folder);
    if (most > 0 && most < ft_max_length(m)) ft_set_max_length(m, most);
    ft__release(c, path);
    ft__json_free(c, json);
}
