#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/linear.h"
#include "operators/layer_norm.h"
#include "operators/arithmetic.h"
#include "operators/matmul.h"
#include "operators/embedding.h"
#include "operators/positions.h"
#include "operators/step_pool.h"
#include "operators/attention.h"
#include "graph/settings.h"
#include "graph/surgery.h"
#include "graph/building.h"
#include "networks/images.h"
#include "networks/text.h"
#include "networks/regression.h"

/* =============================================================================================
   [SECTION] networks/encoders: Transformers that read text: BERT, DistilBERT, RoBERTa
   Each layer is attention over all steps, then two linear layers at each step; around both a
   residual and, after it, a layer norm (Vaswani et al. 2017, Devlin et al. 2018, Sanh et al. 2019,
   Liu et al. 2019). Parameters have the names of Hugging Face's files. Inputs: "tokens" I32 [N, L],
   "lengths" I32 [N]: how many of them are real, and "labels" I32 [N], or [N, L] for a class of each
   token.
   ============================================================================================= */
/* The names of a family's tensors. Those of a layer come after "<layers>.<number>.". */
typedef struct ft__encoder_names {
    const char *network, *prefix, *layers;
    const char *query, *key, *value, *output, *norm, *up, *down, *last_norm;
    const char *dense;      /* of a head that has two linear layers */
    const char *dense_kind; /* the activation after it */
    const char *head;
    int types;              /* rows of the table of token types; 0: there is none */
    int first;              /* the position of the first token */
    float eps;
} ft__encoder_names;

static const ft__encoder_names ft__encoders[] = {
    {"bert", "bert.", "encoder.layer",
     "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
     "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
     "pooler.dense", "tanh", "classifier", 2, 0, 1e-12f},
    {"roberta", "roberta.", "encoder.layer",
     "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
     "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
     "classifier.dense", "tanh", "classifier.out_proj", 1, 2, 1e-5f},
    {"distilbert", "distilbert.", "transformer.layer",
     "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
     "ffn.lin1", "ffn.lin2", "output_layer_norm",
     "pre_classifier", "relu", "classifier", 0, 0, 1e-12f}};

/* What a file need not have: a head. What it may have too: the heads of the pretraining. */
#define FT__ENCODER_LACKS "classifier.*"
#define FT__ENCODER_HOLDS "pooler.*,*.pooler.*,cls.*,lm_head.*,vocab_*,*position_ids"

enum { FT__ENCODERS = sizeof ft__encoders / sizeof ft__encoders[0] };

/* Builds the layers of one network; `text` is for the name that is being made. */
typedef struct ft__encoder_builder {
    ft_model *m;
    const ft_network_options *o;
    const ft__encoder_names *names;
    ft_node lengths;
    int layer;
    char text[3][256];
} ft__encoder_builder;

/* "<prefix><part>", or in a layer "<prefix><layers>.<number>.<part>". `which` of three texts. */
static const char *ft__encoder_name(ft__encoder_builder *e, int which, const char *part)
{
    const char *prefix = e->o->prefix ? e->o->prefix : "";
    if (e->layer < 0) snprintf(e->text[which], sizeof e->text[which], "%s%s", prefix, part);
    else snprintf(e->text[which], sizeof e->text[which], "%s%s.%d.%s", prefix, e->names->layers,
                  e->layer, part);
    return e->text[which];
}

static ft_node ft__encoder_linear(ft__encoder_builder *e, const char *part, ft_node x, int features)
{
    ft_linear_options none;
    memset(&none, 0, sizeof none);
    return ft_linear(e->m, ft__encoder_name(e, 0, part), x, features, none);
}

static ft_node ft__encoder_norm(ft__encoder_builder *e, const char *part, ft_node x)
{
    ft_layer_norm_options norm;
    norm.eps = e->o->norm_eps > 0 ? e->o->norm_eps : e->names->eps;
    return ft_layer_norm(e->m, ft__encoder_name(e, 0, part), x, norm);
}

/* Drops single numbers after a part. */
static ft_node ft__encoder_dropout(ft__encoder_builder *e, const char *part, ft_node x)
{
    char name[300];
    ft_dropout_options o;
    memset(&o, 0, sizeof o);
    o.probability = e->o->dropout;
    snprintf(name, sizeof name, "%s.dropout", ft__encoder_name(e, 0, part));
    return o.probability == 0 ? x : ft_dropout(e->m, name, x, o);
}

/* norm(x + dropout(linear(inner))) */
static ft_node ft__encoder_residual(ft__encoder_builder *e, const char *linear, const char *norm,
                                    ft_node x, ft_node inner)
{
    char name[300];
    inner = ft__encoder_linear(e, linear, inner, e->o->hidden);
    inner = ft__encoder_dropout(e, linear, inner);
    snprintf(name, sizeof name, "%s.residual", ft__encoder_name(e, 0, linear));
    return ft__encoder_norm(e, norm, ft_add(e->m, name, inner, x));
}

static ft_node ft__encoder_activation(ft__encoder_builder *e, const char *kind, const char *part,
                                      ft_node x)
{
    char name[300];
    snprintf(name, sizeof name, "%s.activation", ft__encoder_name(e, 0, part));
    return ft__named_activation(e->m, kind, name, x);
}

/* x [N, L, hidden] -> the same. */
static ft_node ft__encoder_layer(ft__encoder_builder *e, ft_node x)
{
    const ft__encoder_names *n = e->names;
    const char *kind = e->o->activation ? e->o->activation : "gelu";
    ft_attention_options attention;
    ft_node q, k, v, inner;
    memset(&attention, 0, sizeof attention);
    attention.heads = e->o->heads;
    attention.lengths = e->lengths;
    attention.dropout = e->o->attention_dropout;
    q = ft__encoder_linear(e, n->query, x, e->o->hidden);
    k = ft__encoder_linear(e, n->key, x, e->o->hidden);
    v = ft__encoder_linear(e, n->value, x, e->o->hidden);
    inner = ft_attention(e->m, ft__encoder_name(e, 0, "attention"), q, k, v, attention);
    x = ft__encoder_residual(e, n->output, n->norm, x, inner);
    inner = ft__encoder_linear(e, n->up, x, e->o->feed_forward);
    inner = ft__encoder_activation(e, kind, n->up, inner);
    return ft__encoder_residual(e, n->down, n->last_norm, x, inner);
}

/* Adds the first row of the table of token types, that of a single text. */
static ft_node ft__encoder_type(ft__encoder_builder *e, ft_node x)
{
    static const float first[] = {1, 0, 0, 0, 0, 0, 0, 0};
    int size[2] = {1, 0};
    ft_matmul_options none;
    ft_parameter_options p;
    ft_node row, weight;
    memset(&none, 0, sizeof none);
    memset(&p, 0, sizeof p);
    size[1] = p.size[0] = e->o->token_types;
    p.size[1] = e->o->hidden;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 1), as PyTorch's embedding */
    weight = ft_parameter(e->m, ft__encoder_name(e, 0, "embeddings.token_type_embeddings.weight"),
                          p);
    row = ft_constant(e->m, ft__encoder_name(e, 0, "embeddings.token_type"), 2, size, first);
    row = ft_matmul(e->m, ft__encoder_name(e, 0, "embeddings.token_type_row"), row, weight, none);
    return ft_add(e->m, ft__encoder_name(e, 0, "embeddings.with_type"), x, row);
}

/* tokens [N, L] -> [N, L, hidden], normalised. */
static ft_node ft__encoder_embeddings(ft__encoder_builder *e)
{
    ft_embedding_options words;
    ft_add_positions_options positions;
    ft_node x = ft__tokens_input(e->m, "tokens", true);
    memset(&words, 0, sizeof words);
    memset(&positions, 0, sizeof positions);
    positions.first = e->names->first;
    x = ft_embedding(e->m, ft__encoder_name(e, 0, "embeddings.word_embeddings"), x, e->o->words,
                     e->o->hidden, words);
    x = ft_add_positions(e->m, ft__encoder_name(e, 0, "embeddings.position_embeddings"), x,
                     e->o->positions, positions);
    if (e->o->token_types > 0) x = ft__encoder_type(e, x);
    x = ft__encoder_norm(e, "embeddings.LayerNorm", x);
    return ft__encoder_dropout(e, "embeddings", x);
}

/* What sentence-transformers makes of the hidden states: the vector of the text. `pooled`: what the
   head reads, of this kind. */
static void ft__encoder_vector(ft__encoder_builder *e, ft_node x, ft_node pooled,
                               ft_step_pooling kind)
{
    ft_text_vector_options options;
    ft_step_pool_options pool;
    memset(&pool, 0, sizeof pool);
    pool.kind = e->o->pooling;
    options.normalize = e->o->normalize;
    if (e->o->pooling == FT_POOL_LAST) return;
    if (kind != pool.kind) pooled = ft_step_pool(e->m, "text_vector", x, e->lengths, pool);
    ft_set_text_vector(e->m, pooled, options);
}

/* hidden states [N, L, hidden] -> logits [N, classes] */
static ft_node ft__encoder_head(ft__encoder_builder *e, ft_node x)
{
    ft_node hidden = x;
    ft_step_pool_options pool;
    ft_linear_options none;
    bool first = e->o->pooling == FT_POOL_FIRST || e->o->dense_head;
    memset(&pool, 0, sizeof pool);
    memset(&none, 0, sizeof none);
    pool.kind = first ? FT_POOL_FIRST : e->o->pooling == FT_POOL_LAST ? FT_POOL_MEAN
                                                                      : e->o->pooling;
    x = ft_step_pool(e->m, "pooled", x, e->lengths, pool);
    ft__encoder_vector(e, hidden, x, pool.kind);
    if (e->o->dense_head) { /* BERT's is part of the encoder, and has its prefix */
        const char *dense = e->names->dense;
        if (!strncmp(dense, "pooler", 6)) dense = ft__encoder_name(e, 1, dense);
        x = ft_linear(e->m, dense, x, e->o->hidden, none);
        x = ft__encoder_activation(e, e->names->dense_kind, "head", x);
    }
    x = ft__encoder_dropout(e, "head", x);
    return ft_linear(e->m, e->names->head, x, e->o->classes, none);
}

/* hidden states [N, L, hidden] -> logits [N, L, classes]; all families call the layer the same. */
static ft_node ft__encoder_token_head(ft__encoder_builder *e, ft_node x)
{
    ft_linear_options none;
    memset(&none, 0, sizeof none);
    x = ft__encoder_dropout(e, "head", x);
    return ft_linear(e->m, ft__token_head, x, e->o->classes, none);
}

static ft_status ft__encoder_check(ft__encoder_builder *e)
{
    const ft_network_options *o = e->o;
    ft__context *c = &e->m->context;
    if (o->heads < 1)
        return ft__fail(c, FT_INVALID, "%s: the number of heads is needed, which no shape shows:"
                        " load the folder whose config.json says it, or set"
                        " ft_network_options.heads", e->names->network);
    if (o->hidden < 1 || o->hidden % o->heads != 0 || o->layers < 1 || o->feed_forward < 1
        || o->positions <= e->names->first || o->token_types < 0 || o->token_types > 8)
        return ft__fail(c, FT_INVALID, "%s: %d layers of %d features, %d heads, %d in between, %d"
                        " positions and %d token types: heads must divide the features, positions"
                        " be above %d, token types at most 8, the others above 0",
                        e->names->network, o->layers, o->hidden, o->heads, o->feed_forward,
                        o->positions, o->token_types, e->names->first);
    if (o->normalize && o->pooling == FT_POOL_LAST)
        return ft__fail(c, FT_INVALID, "%s: normalize has no effect without pooling",
                        e->names->network);
    if (e->o->embedding && e->o->embedding != o->hidden)
        return ft__fail(c, FT_INVALID, "%s: embedding is %d, but must be hidden, %d",
                        e->names->network, e->o->embedding, o->hidden);
    if (o->task == FT_TASK_REGRESSION && o->classes > 1)
        return ft__fail(c, FT_UNSUPPORTED, "%s: a regression of %d numbers is not supported, only"
                        " of one", e->names->network, o->classes);
    if (o->task != FT_TASK_AUTO && o->task != FT_TASK_CLASSIFICATION && o->task != FT_TASK_TOKENS
        && o->task != FT_TASK_REGRESSION)
        return ft__fail(c, FT_INVALID, "%s: task is %d; it must be FT_TASK_CLASSIFICATION,"
                        " FT_TASK_REGRESSION or FT_TASK_TOKENS", e->names->network, (int)o->task);
    return c->status;
}

static ft_node ft__build_encoder(ft__builder *b, const char *network)
{
    ft__encoder_builder e;
    ft_node x, none = {0};
    int i;
    memset(&e, 0, sizeof e);
    e.m = b->m;
    e.o = &b->o;
    e.layer = -1;
    for (i = 0; i < FT__ENCODERS; ++i)
        if (!strcmp(ft__encoders[i].network, network)) e.names = &ft__encoders[i];
    if (b->o.words == 0) b->o.words = 30522;
    if (b->o.hidden == 0) b->o.hidden = 768;
    if (b->o.layers == 0) b->o.layers = 12;
    if (b->o.feed_forward == 0) b->o.feed_forward = 4 * b->o.hidden;
    if (b->o.positions == 0) b->o.positions = 512 + e.names->first;
    if (b->o.token_types == 0) b->o.token_types = e.names->types;
    if (b->o.task == FT_TASK_AUTO && b->o.classes == 1) b->o.task = FT_TASK_REGRESSION;
    if (ft__encoder_check(&e) != FT_OK) return none;
    e.lengths = ft__tokens_input(e.m, "lengths", false);
    x = ft__encoder_embeddings(&e);
    for (e.layer = 0; e.layer < b->o.layers && ft__ok(&e.m->context); e.layer += 1)
        x = ft__encoder_layer(&e, x);
    e.layer = -1;
    if (b->o.task == FT_TASK_TOKENS) x = ft__text_end(e.m, ft__encoder_token_head(&e, x), true);
    else if (b->o.task == FT_TASK_REGRESSION) x = ft__number_end(e.m, ft__encoder_head(&e, x));
    else x = ft__text_end(e.m, ft__encoder_head(&e, x), false);
    if (ft_max_length(e.m) > b->o.positions - e.names->first || e.m->max_length == 0)
        ft_set_max_length(e.m, b->o.positions - e.names->first);
    return x;
}

static ft_node ft__build_bert(ft__builder *b) { return ft__build_encoder(b, "bert"); }
static ft_node ft__build_roberta(ft__builder *b) { return ft__build_encoder(b, "roberta"); }
static ft_node ft__build_distilbert(ft__builder *b) { return ft__build_encoder(b, "distilbert"); }

/* A size of "<prefix><part>", or 0. */
static int ft__encoder_size(const ft_file *file, const char *rename, const char *prefix,
                            const char *part, int d)
{
    char name[200];
    snprintf(name, sizeof name, "%s%s", prefix, part);
    return ft__size_in_file(file, rename, name, d);
}

/* ---- Pairs of texts ---- */

bool ft_pairs(const ft_model *m) { return m && m->pairs; }

/* Finds the row of the table of token types that single texts get; NULL: there is none. */
static ft__node *ft__single_type(ft_model *m)
{
    static const char end[] = "embeddings.token_type_row";
    int i;
    for (i = 0; i < m->node_count; ++i) {
        const char *name = m->nodes[i].name;
        size_t bytes = name ? strlen(name) : 0;
        if (bytes >= strlen(end) && !strcmp(name + bytes - strlen(end), end)) return &m->nodes[i];
    }
    return NULL;
}

/* With several token types the row of the first is replaced by a row for each token, by the input
   "types". Of types that are all 0 the bits are the same. */
ft_status ft_set_pairs(ft_model *m, bool pairs)
{
    ft__node *row;
    if (!ft__usable(m)) return ft__status_of(m);
    row = pairs ? ft__single_type(m) : NULL;
    if (row && m->nodes[row->inputs[1] - 1].shape.size[0] > 1) {
        ft_embedding_options o;
        ft_node old, rows;
        char name[300];
        const ft_shape *table = &m->nodes[row->inputs[1] - 1].shape;
        int types = table->size[0], hidden = table->size[1];
        memset(&o, 0, sizeof o);
        old.id = (int)(row - m->nodes) + 1;
        o.weight.id = row->inputs[1];
        snprintf(name, sizeof name, "%.*ss", (int)strlen(row->name), row->name);
        rows = ft_embedding(m, name, ft__tokens_input(m, "types", true), types, hidden, o);
        if (ft__ok(&m->context)) ft__replace(m, old, rows);
    }
    if (ft__ok(&m->context)) m->pairs = pairs;
    return m->context.status;
}

/* Sizes from the shapes in a file. The number of heads is in no shape. */
static bool ft__size_transformer(const ft__encoder_names *n, const ft_file *file,
                                 const char *rename, const char *prefix, ft_network_options *o)
{
    char name[200];
    int dense;
    o->words = ft__encoder_size(file, rename, prefix, "embeddings.word_embeddings.weight", 0);
    o->hidden = ft__encoder_size(file, rename, prefix, "embeddings.word_embeddings.weight", 1);
    o->positions = ft__encoder_size(file, rename, prefix,
                                    "embeddings.position_embeddings.weight", 0);
    o->token_types = ft__encoder_size(file, rename, prefix,
                                      "embeddings.token_type_embeddings.weight", 0);
    if (!o->words || !o->hidden || !o->positions || (o->token_types > 0) != (n->types > 0)
        || (o->token_types == 1) != (n->types == 1)) return false; /* RoBERTa has one type */
    for (o->layers = 0; o->layers < 10000; o->layers += 1) {
        snprintf(name, sizeof name, "%s.%d.%s.weight", n->layers, o->layers, n->query);
        if (!ft__encoder_size(file, rename, prefix, name, 0)) break;
    }
    snprintf(name, sizeof name, "%s.0.%s.weight", n->layers, n->up);
    o->feed_forward = ft__encoder_size(file, rename, prefix, name, 0);
    snprintf(name, sizeof name, "%s.weight", o->task == FT_TASK_TOKENS ? ft__token_head : n->head);
    if (!o->classes) o->classes = ft__size_in_file(file, rename, name, 0);
    if (!ft__size_in_file(file, rename, name, 0) || o->task == FT_TASK_TOKENS) return o->layers > 0;
    snprintf(name, sizeof name, "%s.weight", n->dense);
    dense = ft__size_in_file(file, rename, name, 0);
    o->dense_head = dense > 0 || ft__encoder_size(file, rename, prefix, name, 0) > 0;
    return o->layers > 0;
}

static bool ft__matches_encoder(const ft__network *network, const ft_file *file,
                                const char *rename, ft_network_options *o)
{
    const ft__encoder_names *n = ft__encoders;
    while (strcmp(n->network, network->name) != 0) ++n;
    o->prefix = n->prefix;
    if (ft__size_transformer(n, file, rename, o->prefix, o)) return true;
    o->prefix = "";
    return ft__size_transformer(n, file, rename, o->prefix, o);
}
