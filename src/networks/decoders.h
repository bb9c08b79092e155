#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/json.h"
#include "nodes/names.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/linear.h"
#include "operators/layer_norm.h"
#include "operators/arithmetic.h"
#include "operators/linear_cross_entropy.h"
#include "operators/embedding.h"
#include "operators/positions.h"
#include "operators/step_pool.h"
#include "operators/attention.h"
#include "graph/settings.h"
#include "graph/building.h"
#include "formats/readers.h"
#include "formats/weights.h"
#include "networks/images.h"
#include "networks/text.h"

/* =============================================================================================
   [SECTION] networks/decoders: Transformers that write text: GPT-2, Llama, Qwen2, Qwen3
   Each layer is causal attention over the steps so far, then linear layers at each step; before
   both a norm, around both a residual (Radford et al. 2019, Touvron et al. 2023, Yang et al. 2024
   and 2025). Inputs: "tokens" I32 [N, L]. A language model's logits are [N, L, words], its "labels"
   [N, L] the next tokens. With ft_network_options.classes the network is a classifier instead, as
   Hugging Face's ...ForSequenceClassification: "score" of the last real step, with the inputs
   "lengths" I32 [N] and "labels" [N].
   ============================================================================================= */
/* The names of a family's tensors. Those of a layer come after "<layers>.<number>.". */
typedef struct ft__decoder_names {
    const char *network, *prefix, *words, *positions, *layers;
    const char *norm, *query, *key, *value, *output; /* key NULL: `query` has all three */
    const char *next_norm, *gate, *up, *down, *last_norm, *head;
    const char *parts;      /* glob: names in a file without the prefix */
    float eps;
    const char *activation;
} ft__decoder_names;

#define FT__LLAMA_NAMES                                                                           \
    "model.", "embed_tokens", NULL, "layers", "input_layernorm", "self_attn.q_proj",              \
    "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",       \
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "norm", "lm_head",                           \
    "embed_tokens.*,layers.*,norm.*"
static const ft__decoder_names ft__decoders[] = {
    {"gpt2", "transformer.", "wte", "wpe", "h", "ln_1", "attn.c_attn", NULL, NULL, "attn.c_proj",
     "ln_2", NULL, "mlp.c_fc", "mlp.c_proj", "ln_f", "lm_head", "wte.*,wpe.*,h.*,ln_f.*", 1e-5f,
     "gelu_new"},
    {"qwen3", FT__LLAMA_NAMES, 1e-6f, "silu"},
    {"qwen2", FT__LLAMA_NAMES, 1e-6f, "silu"},
    {"llama", FT__LLAMA_NAMES, 1e-6f, "silu"},
    {"meta_llama", "", "tok_embeddings", NULL, "layers", "attention_norm", "attention.wq",
     "attention.wk", "attention.wv", "attention.wo", "ffn_norm", "feed_forward.w1",
     "feed_forward.w3", "feed_forward.w2", "norm", "output", "", 1e-5f, "silu"}};

enum { FT__DECODERS = sizeof ft__decoders / sizeof ft__decoders[0] };

/* What a file need not have: the head of a new task. What it may have too: a language model's head
   that is not used, and buffers of old versions. */
#define FT__DECODER_LACKS "score.*"
#define FT__DECODER_HOLDS                                                                         \
    "lm_head.*,output.weight,*.attn.bias,*.attn.masked_bias,*.inv_freq,freqs_*"

static const ft__decoder_names *ft__decoder_named(const char *network)
{
    int i = 0;
    while (i < FT__DECODERS && strcmp(ft__decoders[i].network, network) != 0) ++i;
    return i < FT__DECODERS ? &ft__decoders[i] : NULL;
}

/* Builds the layers of one network; `text` is for the names that are being made. */
typedef struct ft__decoder_builder {
    ft_model *m;
    const ft_network_options *o;
    const ft__decoder_names *names;
    ft_node lengths;        /* of a classifier */
    int layer, heads, some, head_size; /* some: heads of keys and values */
    char text[256];
} ft__decoder_builder;

/* "<prefix><part>", or in a layer "<prefix><layers>.<number>.<part>", and `end`. */
static const char *ft__decoder_name(ft__decoder_builder *d, const char *part, const char *end)
{
    const char *prefix = d->o->prefix ? d->o->prefix : "";
    if (d->layer < 0) snprintf(d->text, sizeof d->text, "%s%s%s", prefix, part, end);
    else snprintf(d->text, sizeof d->text, "%s%s.%d.%s%s", prefix, d->names->layers, d->layer,
                  part, end);
    return d->text;
}

/* A weight drawn from N(0, 0.02^2), as these networks are; of GPT-2 transposed in files. */
static ft_node ft__decoder_weight(ft__decoder_builder *d, const char *name, int rows, int columns,
                                  bool transposed)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    p.size[0] = rows;
    p.size[1] = columns;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 5000; /* N(0, 2 / 5000) */
    p.transposed = transposed;
    return ft_parameter(d->m, name, p);
}

static ft_node ft__decoder_linear(ft__decoder_builder *d, const char *part, ft_node x, int inputs,
                                  int outputs, bool bias)
{
    ft_linear_options o;
    ft_parameter_options zeros;
    memset(&o, 0, sizeof o);
    memset(&zeros, 0, sizeof zeros);
    o.no_bias = !bias;
    o.weight = ft__decoder_weight(d, ft__decoder_name(d, part, ".weight"), outputs, inputs,
                                  d->names->positions != NULL);
    zeros.size[0] = outputs;
    zeros.initialiser = FT_INIT_ZEROS;
    if (bias) o.bias = ft_parameter(d->m, ft__decoder_name(d, part, ".bias"), zeros);
    return ft_linear(d->m, ft__decoder_name(d, part, ""), x, outputs, o);
}

static float ft__decoder_eps(const ft__decoder_builder *d)
{
    return d->o->norm_eps > 0 ? d->o->norm_eps : d->names->eps;
}

/* GPT-2's is a layer norm, the others' have no mean. `size` of a row; 0: all of it. */
static ft_node ft__decoder_norm(ft__decoder_builder *d, const char *part, ft_node x, int size)
{
    ft_layer_norm_options norm;
    ft_rms_norm_options rms;
    memset(&rms, 0, sizeof rms);
    norm.eps = rms.eps = ft__decoder_eps(d);
    rms.size = size;
    return d->names->positions ? ft_layer_norm(d->m, ft__decoder_name(d, part, ""), x, norm)
                               : ft_rms_norm(d->m, ft__decoder_name(d, part, ""), x, rms);
}

/* Drops single numbers. */
static ft_node ft__decoder_dropout(ft__decoder_builder *d, const char *part, ft_node x)
{
    ft_dropout_options o;
    memset(&o, 0, sizeof o);
    o.probability = d->o->dropout;
    return o.probability == 0 ? x
                              : ft_dropout(d->m, ft__decoder_name(d, part, ".dropout"), x, o);
}

/* A query or key, with its norm over each head (Qwen3), turned by its position. */
static ft_node ft__decoder_turned(ft__decoder_builder *d, const char *part, const char *norm,
                                  ft_node x, int heads)
{
    ft_rotary_options rotary = d->o->rotary;
    bool biased = d->o->attention_bias || !strcmp(d->names->network, "qwen2");
    rotary.heads = heads;
    x = ft__decoder_linear(d, part, x, d->o->hidden, heads * d->head_size, biased);
    if (!strcmp(d->names->network, "qwen3")) x = ft__decoder_norm(d, norm, x, d->head_size);
    return ft_rotary(d->m, ft__decoder_name(d, part, ".rotary"), x, rotary);
}

static ft_node ft__decoder_attention(ft__decoder_builder *d, ft_node x)
{
    const ft__decoder_names *n = d->names;
    int hidden = d->o->hidden, all = d->heads * d->head_size;
    bool biased = d->o->attention_bias || n->positions;
    ft_attention_options o;
    ft_node q, k = {0}, v = {0};
    memset(&o, 0, sizeof o);
    o.heads = d->heads;
    o.key_value_heads = d->some;
    o.causal = true;
    o.lengths = d->lengths;
    o.dropout = d->o->attention_dropout;
    if (n->positions) {
        q = ft__decoder_linear(d, n->query, x, hidden, 3 * hidden, true); /* and k and v */
    } else {
        q = ft__decoder_turned(d, n->query, "self_attn.q_norm", x, d->heads);
        k = ft__decoder_turned(d, n->key, "self_attn.k_norm", x, d->some);
        v = ft__decoder_linear(d, n->value, x, hidden, d->some * d->head_size,
                               biased || !strcmp(n->network, "qwen2"));
    }
    x = ft_attention(d->m, ft__decoder_name(d, "attention", ""), q, k, v, o);
    return ft__decoder_linear(d, n->output, x, all, hidden, biased);
}

/* down(activation(gate(x)) up(x)) (Shazeer 2020), or GPT-2's down(activation(up(x))). */
static ft_node ft__decoder_feed_forward(ft__decoder_builder *d, ft_node x)
{
    const ft__decoder_names *n = d->names;
    const char *kind = d->o->activation ? d->o->activation : n->activation;
    int hidden = d->o->hidden, wide = d->o->feed_forward;
    bool biased = n->positions || d->o->feed_forward_bias;
    ft_node up = {0};
    if (n->gate) up = ft__decoder_linear(d, n->up, x, hidden, wide, biased);
    x = ft__decoder_linear(d, n->gate ? n->gate : n->up, x, hidden, wide, biased);
    x = ft__named_activation(d->m, kind,
                             ft__decoder_name(d, n->gate ? n->gate : n->up, ".activation"), x);
    if (n->gate) x = ft_mul(d->m, ft__decoder_name(d, n->up, ".gated"), x, up);
    return ft__decoder_linear(d, n->down, x, wide, hidden, biased);
}

/* x [N, L, hidden] -> the same. */
static ft_node ft__decoder_layer(ft__decoder_builder *d, ft_node x)
{
    const ft__decoder_names *n = d->names;
    ft_node inner = ft__decoder_attention(d, ft__decoder_norm(d, n->norm, x, 0));
    inner = ft__decoder_dropout(d, n->output, inner);
    x = ft_add(d->m, ft__decoder_name(d, n->output, ".residual"), x, inner);
    inner = ft__decoder_feed_forward(d, ft__decoder_norm(d, n->next_norm, x, 0));
    inner = ft__decoder_dropout(d, n->down, inner);
    return ft_add(d->m, ft__decoder_name(d, n->down, ".residual"), x, inner);
}

/* tokens [N, L] -> [N, L, hidden] */
static ft_node ft__decoder_embeddings(ft__decoder_builder *d)
{
    ft_embedding_options words;
    ft_add_positions_options positions;
    ft_node x = ft__tokens_input(d->m, "tokens", true);
    memset(&words, 0, sizeof words);
    memset(&positions, 0, sizeof positions);
    words.weight = ft__decoder_weight(d, ft__decoder_name(d, d->names->words, ".weight"),
                                      d->o->words, d->o->hidden, false);
    x = ft_embedding(d->m, ft__decoder_name(d, d->names->words, ""), x, d->o->words, d->o->hidden,
                     words);
    if (!d->names->positions) return x;
    positions.weight = ft__decoder_weight(d, ft__decoder_name(d, d->names->positions, ".weight"),
                                          d->o->positions, d->o->hidden, false);
    x = ft_add_positions(d->m, ft__decoder_name(d, d->names->positions, ""), x, d->o->positions,
                         positions);
    return ft__decoder_dropout(d, d->names->words, x);
}

/* From so many words on the loss makes the logits of a part of the labels at a time, and none are
   kept in training. */
enum { FT__MANY_WORDS = 4096 };

/* Hidden states [N, L, hidden] -> logits [N, L, words] or [N, classes], and the loss. */
static ft_node ft__decoder_head(ft__decoder_builder *d, ft_node x)
{
    ft_step_pool_options last;
    ft_linear_options o;
    ft_loss_options loss;
    ft_node logits, none = {0};
    memset(&loss, 0, sizeof loss);
    memset(&last, 0, sizeof last);
    memset(&o, 0, sizeof o);
    o.no_bias = true;
    if (d->o->classes > 0) {
        x = ft_step_pool(d->m, "pooled", x, d->lengths, last);
        return ft__text_end(d->m, ft_linear(d->m, "score", x, d->o->classes, o), false);
    }
    if (!d->o->untied)
        o.weight = ft__find_node(d->m, ft__decoder_name(d, d->names->words, ".weight"));
    logits = ft_linear(d->m, d->names->head, x, d->o->words, o);
    if (d->o->words < FT__MANY_WORDS || !logits.id) return ft__text_end(d->m, logits, true);
    o.weight.id = d->m->nodes[logits.id - 1].inputs[1];
    ft_set_output(d->m, logits);
    ft_set_loss(d->m, ft_linear_cross_entropy(d->m, "loss", x, o.weight, none,
                                              ft__tokens_input(d->m, "labels", true), loss));
    return logits;
}

static ft_status ft__decoder_check(const ft__decoder_builder *d)
{
    const ft_network_options *o = d->o;
    const ft__decoder_names *n = d->names;
    ft__context *c = &d->m->context;
    bool llama = !n->positions, named = !strcmp(n->network, "llama");
    const ft__field_use uses[] = {
        {"key_value_heads", o->key_value_heads != 0, llama, "networks other than gpt2"},
        {"head_size", o->head_size != 0, llama, "networks other than gpt2"},
        {"untied", o->untied, llama, "networks other than gpt2"},
        {"rotary.base", o->rotary.base != 0, llama, "networks other than gpt2"},
        {"rotary.scaling", o->rotary.scaling != 0, llama, "networks other than gpt2"},
        {"rotary.heads", o->rotary.heads != 0, false, "ft_rotary"},
        {"rotary.dimensions", o->rotary.dimensions != 0, false, "ft_rotary"},
        {"rotary.positions", o->rotary.positions.id != 0, false, "ft_rotary"},
        {"attention_bias", o->attention_bias, named || !strcmp(n->network, "qwen3"),
         "llama and qwen3"},
        {"feed_forward_bias", o->feed_forward_bias, named, "llama"},
        {"tied", o->tied, false, "lstm_lm"},
        {"bidirectional", o->bidirectional, false, "recurrent networks"},
        {"token_types", o->token_types != 0, false, "encoders"},
        {"dense_head", o->dense_head, false, "encoders"},
        {"pooling", o->pooling != 0, false, "encoders"},
        {"embedding", o->embedding != 0 && o->embedding != o->hidden, false, "recurrent networks"}};
    if (o->heads < 1)
        return ft__fail(c, FT_INVALID, "%s: the number of heads is needed, which no shape shows:"
                        " load the folder whose config.json says it, or set"
                        " ft_network_options.heads", n->network);
    if (o->hidden < 1 || o->layers < 1 || o->feed_forward < 1 || o->positions < 1 || d->some < 1
        || d->heads % d->some != 0 || d->head_size < 1 || (n->positions && o->hidden % d->heads))
        return ft__fail(c, FT_INVALID, "%s: %d layers of %d features, %d heads of %d, %d of keys"
                        " and values, %d in between and %d positions: all must be above 0, and the"
                        " numbers of heads divide each other%s", n->network, o->layers, o->hidden,
                        d->heads, d->head_size, d->some, o->feed_forward, o->positions,
                        n->positions ? " and the features" : "");
    return ft__check_uses(c, n->network, uses, sizeof uses / sizeof uses[0]);
}

static ft_node ft__build_decoder(ft__builder *b, const char *network)
{
    ft__decoder_builder d;
    ft_network_options *o = &b->o;
    ft_node x, none = {0};
    memset(&d, 0, sizeof d);
    d.m = b->m;
    d.o = o;
    d.layer = -1;
    d.names = ft__decoder_named(network);
    if (o->words == 0) o->words = d.names->positions ? 50257 : 32000;
    if (o->hidden == 0) o->hidden = 768;
    if (o->layers == 0) o->layers = 12;
    if (o->feed_forward == 0) o->feed_forward = 4 * o->hidden;
    if (o->positions == 0) o->positions = d.names->positions ? 1024 : 2048;
    d.heads = o->heads;
    d.some = o->key_value_heads ? o->key_value_heads : o->heads;
    d.head_size = o->head_size ? o->head_size : o->heads > 0 ? o->hidden / o->heads : 0;
    if (ft__decoder_check(&d) != FT_OK) return none;
    if (o->classes > 0) d.lengths = ft__tokens_input(d.m, "lengths", false);
    x = ft__decoder_embeddings(&d);
    for (d.layer = 0; d.layer < o->layers && ft__ok(&d.m->context); d.layer += 1)
        x = ft__decoder_layer(&d, x);
    d.layer = -1;
    x = ft__decoder_head(&d, ft__decoder_norm(&d, d.names->last_norm, x, 0));
    if (ft_max_length(d.m) > o->positions || d.m->max_length == 0)
        ft_set_max_length(d.m, o->positions);
    return x;
}

static ft_node ft__build_gpt2(ft__builder *b) { return ft__build_decoder(b, "gpt2"); }
static ft_node ft__build_llama(ft__builder *b) { return ft__build_decoder(b, "llama"); }
static ft_node ft__build_qwen2(ft__builder *b) { return ft__build_decoder(b, "qwen2"); }
static ft_node ft__build_qwen3(ft__builder *b) { return ft__build_decoder(b, "qwen3"); }
static ft_node ft__build_meta_llama(ft__builder *b)
{
    b->o.rotary.interleaved = true;
    return ft__build_decoder(b, "meta_llama");
}

/* ---- Recognising them ---- */

typedef struct ft__decoder_file {
    const ft_file *file;
    const char *rename, *prefix;
    const ft__decoder_names *names;
} ft__decoder_file;

/* A size of "<prefix><part><end>", in layer 0 if it is one of a layer's parts; 0: it is not
   there. */
static int ft__decoder_size(const ft__decoder_file *f, bool in_layer, const char *part,
                            const char *end, int d)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s%s%s%s", f->prefix, in_layer ? f->names->layers : "",
             in_layer ? ".0." : "", part, end);
    return ft__size_in_file(f->file, f->rename, name, d);
}

/* A number of the file's metadata, as llama2.c's exporter has them. */
static double ft__decoder_note(const ft_file *file, const char *key)
{
    const char *text = ft_file_metadata(file, key);
    ft__json *json = text ? ft__json_parse(file->context, text, strlen(text)) : NULL;
    double number = 0;
    bool read = json && ft__json_double(json, 0, &number) && number > 0 && number < 1e9;
    ft__json_free(file->context, json);
    return read ? number : 0;
}

static void ft__decoder_notes(const ft_file *file, ft_network_options *o)
{
    if (!o->heads) o->heads = (int)ft__decoder_note(file, "n_heads");
    if (!o->key_value_heads) o->key_value_heads = (int)ft__decoder_note(file, "n_kv_heads");
    if (o->norm_eps == 0) o->norm_eps = (float)ft__decoder_note(file, "norm_eps");
    if (o->rotary.base == 0) o->rotary.base = (float)ft__decoder_note(file, "rope_theta");
    if (!o->positions) o->positions = (int)ft__decoder_note(file, "max_seq_len");
}

/* Whether the last layer's weight is another one than the embedding's. */
static bool ft__decoder_untied(const ft__decoder_file *f)
{
    char head[80], words[160];
    int own, shared;
    snprintf(head, sizeof head, "%s.weight", f->names->head);
    snprintf(words, sizeof words, "%s%s.weight", f->prefix, f->names->words);
    own = ft__find_renamed(f->file, f->rename, head);
    shared = ft__find_renamed(f->file, f->rename, words);
    return own >= 0 && shared >= 0
        && !ft__same_data(&f->file->tensors[own], &f->file->tensors[shared]);
}

/* Sizes from the shapes in a file. The numbers of heads are in no shape, unless there is one norm
   for each head. */
static bool ft__size_decoder(ft__decoder_file *f, ft_network_options *o)
{
    const ft__decoder_names *n = f->names;
    bool normed = ft__decoder_size(f, true, "self_attn.q_norm", ".weight", 0) > 0;
    bool biased = ft__decoder_size(f, true, n->query, ".bias", 0) > 0;
    bool all = ft__decoder_size(f, true, n->output, ".bias", 0) > 0;
    char name[256];
    o->words = ft__decoder_size(f, false, n->words, ".weight", 0);
    o->hidden = ft__decoder_size(f, false, n->words, ".weight", 1);
    o->feed_forward = ft__decoder_size(f, true, n->up, ".weight", n->positions ? 1 : 0);
    if (!o->words || !o->hidden || !o->feed_forward || normed != !strcmp(n->network, "qwen3")
        || (!strcmp(n->network, "qwen2") && (!biased || all))) return false;
    if (!strcmp(n->network, "llama") && biased && !all) return false; /* Qwen2's */
    if (n->positions) o->positions = ft__decoder_size(f, false, n->positions, ".weight", 0);
    else o->untied = o->untied || ft__decoder_untied(f);
    if (normed && !o->head_size)
        o->head_size = ft__decoder_size(f, true, "self_attn.q_norm", ".weight", 0);
    if (normed && !o->heads)
        o->heads = ft__decoder_size(f, true, n->query, ".weight", 0) / o->head_size;
    if (n->key && !o->key_value_heads && o->heads > 0) {
        int queries = ft__decoder_size(f, true, n->query, ".weight", 0);
        if (queries >= o->heads)
            o->key_value_heads = ft__decoder_size(f, true, n->key, ".weight", 0)
                / (queries / o->heads);
    }
    if (n->key && o->heads > 0 && !o->head_size)
        o->head_size = ft__decoder_size(f, true, n->query, ".weight", 0) / o->heads;
    if (!n->positions && strcmp(n->network, "qwen2") != 0) o->attention_bias = all;
    if (n->gate) o->feed_forward_bias = ft__decoder_size(f, true, n->up, ".bias", 0) > 0;
    for (o->layers = 1; o->layers < 10000; o->layers += 1) {
        snprintf(name, sizeof name, "%s%s.%d.%s.weight", f->prefix, n->layers, o->layers, n->up);
        if (!ft__size_in_file(f->file, f->rename, name, 0)) break;
    }
    if (!o->classes) o->classes = ft__size_in_file(f->file, f->rename, "score.weight", 0);
    return true;
}

static bool ft__matches_decoder(const ft__network *network, const ft_file *file,
                                const char *rename, ft_network_options *o)
{
    ft__decoder_file f;
    f.file = file;
    f.rename = rename;
    f.names = ft__decoder_named(network->name);
    if (!strcmp(f.names->network, "meta_llama")) ft__decoder_notes(file, o);
    f.prefix = o->prefix = f.names->prefix;
    if (ft__size_decoder(&f, o)) return true;
    f.prefix = o->prefix = "";
    return ft__size_decoder(&f, o);
}
