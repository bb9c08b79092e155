#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "basics/folders.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/decoding.h"
#include "graph/settings.h"
#include "graph/adapters.h"
#include "formats/readers.h"
#include "formats/writers.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"
#include "formats/graphs.h"
#include "formats/model_files.h"
#include "networks/text.h"
#include "networks/encoders.h"
#include "networks/decoders.h"
#include "networks/vision_transformers.h"
#include "networks/configs.h"

/* =============================================================================================
   [SECTION] networks/adapter_files: Adapters as PEFT writes them
   A folder has adapter_config.json and adapter_model.safetensors, whose names are those of the
   layers in Hugging Face's task model after "base_model.model.": "...query.lora_A.weight". Tensors
   of other names are layers that were trained whole (modules_to_save), such as the head.
   ============================================================================================= */
static const char ft__peft_prefix[] = "base_model.model.";

/* The prefix that the names of this network's encoder have in a task model: "bert."; "" if the
   network is none of these. */
static const char *ft__family_prefix(const ft_model *m)
{
    const ft__decoder_names *decoder = ft__decoder_named(m->architecture);
    int k;
    for (k = 0; k < FT__ENCODERS; ++k)
        if (!strcmp(m->architecture, ft__encoders[k].network)) return ft__encoders[k].prefix;
    if (decoder) return decoder->prefix;
    if (!ft__vit_other(ft__vit_spelling(m))) return "";
    return !strcmp(m->architecture, "vit") ? "vit."
        : !strcmp(m->architecture, "deit") ? "deit." : "dinov2.";
}

/* Is it the name of a part of the encoder or decoder, and not of the head behind it, without the
   prefix? */
static bool ft__in_encoder(const ft_model *m, const char *name)
{
    const ft__decoder_names *decoder = ft__decoder_named(m->architecture);
    return ft__glob(decoder ? decoder->parts : "embeddings.*,encoder.*,transformer.*,pooler.*,"
                                              "layers.*,layernorm.*",
                    name);
}

/* What PEFT's name of a layer or a parameter has before the network's. */
static const char *ft__peft_family(const ft_model *m, const char *name)
{
    return ft__in_encoder(m, name) ? ft__family_prefix(m) : "";
}

/* ViT's layers have the names that they have in memory in this version of transformers, 4 or 5,
   which reads no adapter of others. */
static void ft__peft_name(const ft_model *m, int version, const char *name, char *to, size_t size)
{
    const ft__vit_names *spelling = ft__vit_spelling(m), *other = ft__vit_other(spelling);
    const char *wanted = version == 4 ? "transformers" : "transformers5";
    char own[560];
    if (other && !strcmp(other->spelling, wanted))
        ft__vit_respell(spelling, other, name, own, sizeof own);
    else snprintf(own, sizeof own, "%s", name);
    snprintf(to, size, "%s%s", ft__peft_family(m, name), own);
}

/* ---- What PEFT has no place for, in the file's metadata: class names as a JSON list, whether the
   network reads pairs of texts, and ft_max_length ---- */
static const char ft__classes_key[] = "finetune.classes";
static const char ft__pairs_key[] = "finetune.pairs", ft__length_key[] = "finetune.max_length";

/* NULL: there are none, or an error. Released by the caller. */
static char *ft__classes_text(ft_model *m)
{
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = &m->context;
    if (m->class_count) ft__add_classes(m, &text);
    return text.letters;
}

static void ft__read_classes_text(ft_model *m, const char *text)
{
    ft__json *json = text ? ft__json_parse(&m->context, text, strlen(text)) : NULL;
    if (json && ft__json_at(json, 0, 'a') && ft__json_count(json, 0) == ft__output_classes(m))
        ft__set_classes(m, json, 0);
    ft__json_free(&m->context, json);
}

/* Texts are read as they were in training: in pairs, and cut at as many tokens. */
static void ft__read_use(ft_model *m, const char *pairs, const char *length)
{
    int tokens = length ? atoi(length) : 0, most = ft__most_steps(m);
    if (pairs && !m->pairs) ft_set_pairs(m, true);
    if (tokens > 0 && (most == 0 || tokens <= most)) ft_set_max_length(m, tokens);
}

/* ---- Writing ---- */
typedef struct ft__adapter_list {
    ft_model *m;
    int version;            /* of transformers */
    ft__tensor_list tensors;
    ft__text targets, saved, ranks, alphas; /* of the config: items of lists and objects */
    int rank;               /* of the first layer; others with another are in `ranks` */
    double alpha;
    float dropout;
    bool transposed;        /* the adapted weights lie so in files: PEFT's fan_in_fan_out */
    bool biases;            /* some of the adapted layers' biases are trained */
    int with_dora, without; /* layers */
    int with_bias;          /* of these, beside B */
} ft__adapter_list;

static void ft__adapter_tensor(ft__adapter_list *list, const ft__node *node)
{
    ft__node named = *node; /* for its shape */
    char name[640];
    ft__peft_name(list->m, list->version, node->name, name, sizeof name);
    named.name = name;
    ft__add_weight(&list->m->context, &list->tensors, &named, ft__peft_prefix, FT_F32);
}

static void ft__adapter_item(ft__text *text, const char *name)
{
    if (text->count) ft__text_add(text, ", ");
    ft__json_add_text(text, name);
}

/* Adds a layer that has an adapter. */
static void ft__adapter_layer(ft__adapter_list *list, const ft__node *layer)
{
    ft_model *m = list->m;
    ft__adapter adapter = ft__adapter_of(m, layer);
    ft_node d = ft__find_part(m, layer->name, "lora_dropout");
    int rank = m->nodes[adapter.a.id - 1].shape.size[adapter.of_words ? 1 : 0];
    double alpha = (double)m->nodes[adapter.scale.id - 1].options.unary.scale * rank;
    char name[560];
    ft__peft_name(m, list->version, layer->name, name, sizeof name);
    ft__adapter_item(&list->targets, name);
    if (!list->rank) {
        list->rank = rank;
        list->alpha = alpha;
    }
    if (m->nodes[layer->inputs[1] - 1].transposed) list->transposed = true;
    if (d.id) list->dropout = m->nodes[d.id - 1].options.dropout.probability;
    if (rank != list->rank) {
        ft__adapter_item(&list->ranks, name);
        ft__text_add(&list->ranks, ": %d", rank);
    }
    if (fabs(alpha - list->alpha) > 1e-6 * alpha) {
        ft__adapter_item(&list->alphas, name);
        ft__text_add(&list->alphas, ": ");
        ft__json_add_float(&list->alphas, (float)alpha);
    }
    ft__adapter_tensor(list, &m->nodes[adapter.a.id - 1]);
    ft__adapter_tensor(list, &m->nodes[adapter.b.id - 1]);
    if (adapter.magnitude.id) ft__adapter_tensor(list, &m->nodes[adapter.magnitude.id - 1]);
    if (adapter.magnitude.id) list->with_dora += 1;
    else list->without += 1;
    if (adapter.bias.id) ft__adapter_tensor(list, &m->nodes[adapter.bias.id - 1]);
    if (adapter.bias.id) list->with_bias += 1;
}

/* Adds the trained bias of a layer that has an adapter; false: the weight is none. */
static bool ft__adapter_bias(ft__adapter_list *list, const ft__node *node)
{
    ft_model *m = list->m;
    ft__node bias = *node; /* with another name */
    const ft__node *layer;
    char name[512], own[560], before[640], plain[] = "bias";
    size_t length = ft__before_end(node->name, plain);
    if (length == 0 || length > sizeof name) return false;
    snprintf(name, sizeof name, "%.*s", (int)length - 1, node->name);
    layer = ft__get_node(m, ft__find_node(m, name));
    if (!layer || !ft__has_adapter(m, layer)) return false;
    ft__peft_name(m, list->version, name, own, sizeof own);
    snprintf(before, sizeof before, "%s%s.base_layer.", ft__peft_prefix, own);
    bias.name = plain;
    ft__add_weight(&m->context, &list->tensors, &bias, before, FT_F32);
    list->biases = true;
    return true;
}

/* Adds the layers that are trained whole: their modules, and all their parameters and buffers. */
static void ft__adapter_whole(ft__adapter_list *list)
{
    ft_model *m = list->m;
    char module[560], last[560] = "";
    int i;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        const char *dot = ft__is_any(node) ? strrchr(node->name, '.') : NULL;
        if (!dot || !ft__is_weight(node) || ft__is_constant(node) || ft__node_is_frozen(m, node)
            || ft__glob(ft__lora_parameters, node->name) || ft__adapter_bias(list, node)) continue;
        ft__peft_name(m, list->version, node->name, module, sizeof module);
        *strrchr(module, '.') = 0;
        if (strcmp(module, last) != 0) ft__adapter_item(&list->saved, module);
        snprintf(last, sizeof last, "%s", module);
        ft__adapter_tensor(list, node);
    }
}

static char *ft__adapter_config(ft__adapter_list *list)
{
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = &list->m->context;
    ft__text_add(&text, "{\n \"peft_type\": \"LORA\",\n \"task_type\": %s,\n \"r\": %d,\n"
                 " \"lora_alpha\": ", ft__classifies_steps(list->m) ? "\"TOKEN_CLS\"" : "null",
                 list->rank);
    ft__json_add_float(&text, (float)list->alpha);
    ft__text_add(&text, ",\n \"lora_dropout\": ");
    ft__json_add_float(&text, list->dropout);
    ft__text_add(&text, ",\n \"use_rslora\": false,\n \"use_dora\": %s,\n \"lora_bias\": %s,\n"
                 " \"bias\": \"%s\",\n \"fan_in_fan_out\": %s,\n \"inference_mode\": true,\n"
                 " \"base_model_name_or_path\": null,\n \"target_modules\": [",
                 list->with_dora ? "true" : "false", list->with_bias ? "true" : "false",
                 list->biases ? "lora_only" : "none", list->transposed ? "true" : "false");
    ft__text_add_bytes(&text, list->targets.letters, list->targets.count);
    ft__text_add(&text, "],\n \"modules_to_save\": ");
    if (list->saved.count == 0) ft__text_add(&text, "null");
    else {
        ft__text_add(&text, "[");
        ft__text_add_bytes(&text, list->saved.letters, list->saved.count);
        ft__text_add(&text, "]");
    }
    ft__text_add(&text, ",\n \"rank_pattern\": {");
    if (list->ranks.count)
        ft__text_add_bytes(&text, list->ranks.letters, list->ranks.count);
    ft__text_add(&text, "},\n \"alpha_pattern\": {");
    if (list->alphas.count)
        ft__text_add_bytes(&text, list->alphas.letters, list->alphas.count);
    ft__text_add(&text, "}\n}\n");
    if (ft__ok(&list->m->context)) return text.letters;
    ft__release(&list->m->context, text.letters);
    return NULL;
}

static void ft__adapter_write(ft__adapter_list *list, const char *folder)
{
    ft_model *m = list->m;
    ft__context *c = &m->context;
    const char *pairs[6];
    char *config = ft__adapter_config(list), *classes = ft__classes_text(m), length[16];
    char *path = config ? ft__join_path(c, folder, "adapter_model.safetensors") : NULL;
    int count = 0;
    snprintf(length, sizeof length, "%d", ft_max_length(m));
    ft__add_text_pair(pairs, &count, ft__classes_key, classes);
    ft__add_text_pair(pairs, &count, ft__pairs_key, m->pairs ? "1" : NULL);
    ft__add_text_pair(pairs, &count, ft__length_key, m->tokenizer ? length : NULL);
    if (path)
        ft__tensor_list_write(c, ft__writer_of(path), path, &list->tensors, pairs, count);
    ft__release(c, classes);
    ft__release(c, path);
    path = ft__ok(c) ? ft__join_path(c, folder, "adapter_config.json") : NULL;
    if (path) ft__write_text(c, path, config);
    ft__release(c, path);
    ft__release(c, config);
}

ft_status ft_save_adapter(ft_model *m, const char *folder, ft_save_adapter_options options)
{
    ft__adapter_list list;
    ft__context *c;
    int i;
    if (!ft__usable(m)) return ft__status_of(m);
    c = &m->context;
    if (!FT__HAS(m, TRANSFORMERS)
        || !ft__given(c, folder, "ft_save_adapter: the folder")) return c->status;
    if (options.transformers != 0 && options.transformers != 4 && options.transformers != 5)
        return ft__fail(c, FT_INVALID, "ft_save_adapter: transformers is %d; it must be 4 or 5 (or"
                        " 0: 5)", options.transformers);
    memset(&list, 0, sizeof list);
    list.m = m;
    list.version = options.transformers;
    list.targets.context = list.saved.context = list.ranks.context = list.alphas.context = c;
    list.tensors = ft__tensor_list_make(c, (size_t)m->node_count + 1);
    ft__host_takes_weights(c, false);
    for (i = 0; ft__ok(c) && i < m->node_count; ++i)
        if (ft__is_adapted(m, &m->nodes[i]))
            ft__adapter_layer(&list, &m->nodes[m->nodes[i].inputs[0] - 1]);
    if (ft__ok(c) && list.tensors.count == 0)
        ft__fail(c, FT_INVALID, "%s: the model has no adapters: ft_lora adds them", folder);
    if (ft__ok(c) && list.with_dora && list.without)
        ft__fail(c, FT_UNSUPPORTED, "%s: %d layers have DoRA and %d plain LoRA; PEFT's files hold"
                 " one kind", folder, list.with_dora, list.without);
    if (ft__ok(c) && list.with_bias && list.with_bias != list.without)
        ft__fail(c, FT_UNSUPPORTED, "%s: %d of %d adapters have a bias; PEFT's files hold all or"
                 " none", folder, list.with_bias, list.without);
    if (ft__ok(c)) ft__adapter_whole(&list);
    if (ft__ok(c)) ft__adapter_write(&list, folder);
    ft__release(c, list.alphas.letters);
    ft__release(c, list.ranks.letters);
    ft__release(c, list.saved.letters);
    ft__release(c, list.targets.letters);
    ft__tensor_list_free(c, &list.tensors);
    return c->status;
}

/* ---- Reading ---- */
typedef struct ft__adapter_reader {
    ft_model *m;
    const char *folder;
    ft__json *config;
    ft_file *file;
    char name[640];         /* of ft__adapter_name */
} ft__adapter_reader;

/* Refuses what changes the result and is not implemented, by name. */
static ft_status ft__adapter_check(const ft__adapter_reader *r)
{
    static const char *const absent[] = {
        "layer_replication", "target_parameters",
        "alora_invocation_tokens", "trainable_token_indices", "use_qalora", "use_bdlora"};
    static const char *const inits[] = {"gaussian", "orthogonal"}; /* and true, false, null */
    const ft__json *j = r->config;
    const char *type = ft__json_string(j, ft__json_member(j, 0, "peft_type"));
    const char *bias = ft__json_string(j, ft__json_member(j, 0, "bias"));
    const char *init = ft__json_string(j, ft__json_member(j, 0, "init_lora_weights"));
    ft__context *c = &r->m->context;
    size_t i;
    if (!type || strcmp(type, "LORA") != 0)
        return ft__fail(c, FT_UNSUPPORTED, "%s/adapter_config.json: peft_type is %s; only LORA is"
                        " supported", r->folder, type ? type : "missing");
    if (bias && strcmp(bias, "none") != 0 && strcmp(bias, "all") != 0
        && strcmp(bias, "lora_only") != 0)
        return ft__fail(c, FT_UNSUPPORTED, "%s/adapter_config.json: bias is %s; it must be none,"
                        " all or lora_only", r->folder, bias);
    for (i = 0; init && i < 2 && strcmp(init, inits[i]) != 0; ++i) {}
    if (init && i == 2)
        return ft__fail(c, FT_UNSUPPORTED, "%s/adapter_config.json: init_lora_weights is %s, which"
                        " changes the weights of the base: convert the adapter to plain LoRA",
                        r->folder, init);
    for (i = 0; i < sizeof absent / sizeof absent[0]; ++i) {
        int value = ft__json_member(j, 0, absent[i]);
        if (value >= 0 && !ft__json_at(j, value, 'f') && !ft__json_at(j, value, '0'))
            return ft__fail(c, FT_UNSUPPORTED, "%s/adapter_config.json: %s is not supported",
                            r->folder, absent[i]);
    }
    for (i = 0; i < (size_t)r->m->node_count && !r->m->nodes[i].transposed; ++i) {}
    if (i == (size_t)r->m->node_count
        && ft__json_true(j, ft__json_member(j, 0, "fan_in_fan_out"))) /* GPT-2's is as ours */
        return ft__fail(c, FT_UNSUPPORTED, "%s/adapter_config.json: fan_in_fan_out is not supported"
                        " by this network", r->folder);
    return c->status;
}

/* The node that a name in a PEFT file means: itself, or without the family's prefix; ViT's in
   either spelling; 0: none. */
static int ft__adapter_node(const ft_model *m, const char *name)
{
    const char *family = ft__family_prefix(m);
    const ft__vit_names *spelling = ft__vit_spelling(m);
    size_t length = strlen(family);
    char other[640];
    int id = ft__find_node(m, name).id;
    if (!id && length && !strncmp(name, family, length)) id = ft__find_node(m, name + length).id;
    if (id || !ft__vit_other(spelling)) return id;
    ft__vit_respell(ft__vit_other(spelling), spelling, name, other, sizeof other);
    id = ft__find_node(m, other).id;
    if (!id && !strncmp(other, family, length)) id = ft__find_node(m, other + length).id;
    return id;
}

/* The number for a module in rank_pattern or alpha_pattern, whose keys are ends of names; else the
   general one. */
static double ft__adapter_number(const ft__adapter_reader *r, const char *general,
                                 const char *pattern, const char *module, double otherwise)
{
    const ft__json *j = r->config;
    int list = ft__json_member(j, 0, pattern), i;
    const ft__json_value *all = ft__json_at(j, list, 'o');
    double number = otherwise;
    ft__json_double(j, ft__json_member(j, 0, general), &number);
    for (i = list + 1; all && i < all->next; i = j->values[i].next) {
        const char *key = j->values[i].key;
        if (strpbrk(key, "*+?()[]{}|^$\\")) {
            ft__fail(&r->m->context, FT_UNSUPPORTED, "%s/adapter_config.json: %s: \"%s\" is a"
                     " regular expression; only names are supported", r->folder, pattern, key);
            return otherwise;
        }
        if (!strcmp(module, key) || ft__before_end(module, key))
            if (ft__json_double(j, i, &number)) break;
    }
    return number;
}

/* Adds the adapter of one tensor lora_A, if the network has none there yet. */
static void ft__adapter_add(ft__adapter_reader *r, const char *module, int tensor)
{
    ft_model *m = r->m;
    int id = ft__adapter_node(m, module), rank = r->file->tensors[tensor].shape.size[0];
    double alpha = ft__adapter_number(r, "lora_alpha", "alpha_pattern", module, 8);
    double dropout = ft__adapter_number(r, "lora_dropout", "", module, 0);
    bool stable = ft__json_true(r->config, ft__json_member(r->config, 0, "use_rslora"));
    ft_lora_options o;
    if (!id || !ft__ok(&m->context) || !ft__can_adapt(&m->nodes[id - 1])
        || ft__has_adapter(m, &m->nodes[id - 1])) return;
    memset(&o, 0, sizeof o);
    o.rank = rank;
    o.alpha = (float)alpha;
    o.dropout = (float)dropout;
    o.scaling = stable ? FT_LORA_STABLE : FT_LORA_PLAIN;
    o.dora = ft__json_true(r->config, ft__json_member(r->config, 0, "use_dora"));
    o.bias = ft__json_true(r->config, ft__json_member(r->config, 0, "lora_bias"));
    if (rank < 1 || !(alpha > 0 && alpha < 1e9) || !(dropout >= 0 && dropout < 1))
        ft__fail(&m->context, FT_FORMAT, "%s: %s: rank %d, lora_alpha %g, lora_dropout %g",
                 r->folder, module, rank, alpha, dropout);
    else ft__adapt(m, id, &o);
}

/* Writes the module whose part, such as "lora_A.weight", has this name; false: it is no such
   part. */
static bool ft__adapter_module(const char *name, const char *part, char *module, size_t size)
{
    size_t length = ft__before_end(name, part); /* with the dot */
    if (length == 0 || length > size) return false;
    snprintf(module, size, "%.*s", (int)length - 1, name);
    return true;
}

/* Whether a tensor has a place in the network: in an adapter that is there or can be added, or as a
   weight. */
static bool ft__adapter_fits(const ft__adapter_reader *r, const char *name)
{
    char module[640];
    int id = ft__adapter_node(r->m, name), i = 0;
    if (id) return ft__is_weight(&r->m->nodes[id - 1]);
    while (i < FT__LORA_PARTS
           && !ft__adapter_module(name, ft__lora_parts[i], module, sizeof module)) ++i;
    id = i < FT__LORA_PARTS ? ft__adapter_node(r->m, module) : 0;
    return id && ft__can_adapt(&r->m->nodes[id - 1])
        && (i == 0 || (r->m->nodes[id - 1].op == FT__OP_embedding) == (i >= FT__LORA_OF_WORDS));
}

/* Reads one tensor into the network; a head of other classes takes their number. */
static void ft__adapter_read(ft__adapter_reader *r, int tensor, const char *name)
{
    ft_model *m = r->m;
    const ft_tensor_info *t = &r->file->tensors[tensor];
    int id = ft__adapter_node(m, name);
    ft__node *node = id ? &m->nodes[id - 1] : NULL, *head = ft__head(m);
    ft_shape shape;
    char has[80], wants[80];
    if (node && head && head->input_count > 1 && head->inputs[1] == id && t->shape.rank == 2
        && t->shape.size[0] != node->shape.size[0] && t->shape.size[0] > 0)
        ft__replace_head(m, t->shape.size[0]);
    if (!ft__ok(&m->context)) return;
    if (node) shape = ft__shape_in_file(node, t->type);
    if (!node || !ft__same_sizes(&t->shape, &shape))
        ft__fail(&m->context, FT_MISMATCH, "%s: %s is %s, but %s in the network", r->folder, name,
                 ft__shape_text(&t->shape, has), node ? ft__shape_text(&shape, wants)
                                                      : "without an adapter");
    else ft__load_value(m, r->file, tensor, node, false);
}

/* The name of a tensor in the task model, until the next call. What an adapted layer itself has, as
   a trained bias, is called "<layer>.base_layer.bias". */
static const char *ft__adapter_name(ft__adapter_reader *r, int tensor)
{
    static const char inner[] = ".base_layer.";
    const char *name = r->file->tensors[tensor].name, *at;
    size_t skip = strlen(ft__peft_prefix);
    if (!strncmp(name, ft__peft_prefix, skip)) name += skip;
    at = strstr(name, inner);
    if (!at || strlen(name) >= sizeof r->name) return name;
    snprintf(r->name, sizeof r->name, "%.*s.%s", (int)(at - name), name, at + sizeof inner - 1);
    return r->name;
}

/* Was it trained? The table of an adapted embedding is in some files, but was not. */
static bool ft__adapter_trained(const ft__adapter_reader *r, int tensor)
{
    return !strstr(r->file->tensors[tensor].name, ".base_layer.weight");
}

/* Adds all adapters, then reads all tensors, once each is known to have a place. */
static ft_status ft__adapter_apply(ft__adapter_reader *r)
{
    ft__context *c = &r->m->context;
    ft__list unknown;
    char module[640];
    int i;
    memset(&unknown, 0, sizeof unknown);
    for (i = 0; i < r->file->count; ++i)
        if (!ft__adapter_fits(r, ft__adapter_name(r, i)))
            ft__list_add(&unknown, ft__adapter_name(r, i), "");
    if (unknown.count || r->file->count == 0)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors of the adapter have no place in the"
                        " network: %s%s", r->folder, unknown.count, unknown.text,
                        unknown.count > 8 ? ", ..." : "");
    for (i = 0; ft__ok(c) && i < r->file->count; ++i) {
        const char *name = ft__adapter_name(r, i);
        if (ft__adapter_module(name, "lora_A.weight", module, sizeof module)
            || ft__adapter_module(name, "lora_embedding_A", module, sizeof module))
            ft__adapter_add(r, module, i);
    }
    for (i = 0; ft__ok(c) && i < r->file->count; ++i)
        ft__adapter_read(r, i, ft__adapter_name(r, i));
    ft__read_classes_text(r->m, ft_file_metadata(r->file, ft__classes_key));
    ft__read_use(r->m, ft_file_metadata(r->file, ft__pairs_key),
                 ft_file_metadata(r->file, ft__length_key));
    if (!ft__ok(c)) return c->status;
    ft__freeze_to_adapters(r->m);
    for (i = 0; i < r->file->count; ++i) /* and what was trained whole */
        if (ft__adapter_trained(r, i))
            r->m->nodes[ft__adapter_node(r->m, ft__adapter_name(r, i)) - 1].frozen = false;
    return c->status;
}

/* Adapters of a network that classifies tokens come with its head: one that classifies texts gets
   it. */
static void ft__adapter_token_head(ft__adapter_reader *r)
{
    const char *task = ft__json_string(r->config, ft__json_member(r->config, 0, "task_type"));
    if (task && !strcmp(task, "TOKEN_CLS") && ft__classifies_samples(r->m))
        ft__to_token_classifier(r->m, 2);
}

ft_status ft_load_adapter(ft_model *m, const char *folder)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin", NULL};
    ft__adapter_reader r;
    ft_weights_options none;
    ft__context *c;
    char *path;
    if (!ft__usable(m)) return ft__status_of(m);
    c = &m->context;
    if (!FT__HAS(m, TRANSFORMERS) || !ft__given(c, folder, "ft_load_adapter: the folder")
        || ft__refuse_any_shared(m, "ft_load_adapter") != FT_OK) return c->status;
    memset(&r, 0, sizeof r);
    memset(&none, 0, sizeof none);
    r.m = m;
    r.folder = folder;
    r.config = ft__folder_json(c, folder, "adapter_config.json");
    path = r.config ? ft__first_in_folder(c, folder, names) : NULL;
    if (!path)
        ft__fail(c, FT_IO, "%s: expected a folder with adapter_config.json and"
                 " adapter_model.safetensors", folder);
    if (ft__ok(c) && ft__adapter_check(&r) == FT_OK) r.file = ft_file_open(m, path, none);
    ft__host_takes_weights(c, true);
    if (ft__ok(c)) ft__adapter_token_head(&r);
    if (ft__ok(c)) ft__adapter_apply(&r);
    m->weights_version += 1;
    ft_file_close(r.file);
    ft__release(c, path);
    ft__json_free(c, r.config);
    return c->status;
}
