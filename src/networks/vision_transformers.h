#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/names.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/conv2d.h"
#include "operators/linear.h"
#include "operators/layer_norm.h"
#include "operators/reshape.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/concat.h"
#include "operators/pad_and_slice.h"
#include "operators/permute.h"
#include "operators/step_pool.h"
#include "operators/attention.h"
#include "graph/settings.h"
#include "graph/building.h"
#include "formats/position_tables.h"
#include "networks/images.h"

/* =============================================================================================
   [SECTION] networks/vision_transformers: Transformers that look at pictures: ViT, DeiT, DINOv2
   A picture is cut into square patches, each of which one linear layer makes a step: a convolution
   whose stride is its kernel. Before them stands a class token, in DeiT a distillation token too,
   and each step gets the vector of its position. Layers are x + attention(norm(x)), then
   x + mlp(norm(x)), in DINOv2 each sum with a factor for each feature (LayerScale). The head reads
   the class token after the last norm. Dosovitskiy et al. 2021, Touvron et al. 2021, Oquab et al.
   2024. Parameters have the names that the file gives them: Hugging Face's transformers', in the
   spelling of its files and in the one that version 5 has in memory, timm's or torchvision's.
   ============================================================================================= */
typedef struct ft__vit_names {
    const char *spelling;   /* ft_network_options.spelling */
    const char *networks;   /* glob: those whose files have these names */
    const char *class_token, *distillation_token, *positions, *patches;
    const char *layers;     /* before a layer's number; after it stands a dot */
    const char *norm, *query, *key, *value; /* one linear layer makes all: `query`; `key` is NULL */
    const char *output, *scale, *second_norm, *up, *down, *second_scale;
    const char *last_norm, *head;
    const char *heads[2];   /* of DeiT: of the class token and of the distillation token */
} ft__vit_names;

static const ft__vit_names ft__vits[] = {
    {"transformers", "vit,deit", "embeddings.cls_token", "embeddings.distillation_token",
     "embeddings.position_embeddings", "embeddings.patch_embeddings.projection", "encoder.layer.",
     "layernorm_before", "attention.attention.query", "attention.attention.key",
     "attention.attention.value", "attention.output.dense", "layer_scale1.lambda1",
     "layernorm_after", "intermediate.dense", "output.dense", "layer_scale2.lambda1", "layernorm",
     "classifier", {"cls_classifier", "distillation_classifier"}},
    {"transformers5", "vit,deit", "embeddings.cls_token", "embeddings.distillation_token",
     "embeddings.position_embeddings", "embeddings.patch_embeddings.projection", "layers.",
     "layernorm_before", "attention.q_proj", "attention.k_proj", "attention.v_proj",
     "attention.o_proj", "layer_scale1.lambda1", "layernorm_after", "mlp.fc1", "mlp.fc2",
     "layer_scale2.lambda1", "layernorm", "classifier",
     {"cls_classifier", "distillation_classifier"}},
    {"transformers", "dinov2", "embeddings.cls_token", "embeddings.distillation_token",
     "embeddings.position_embeddings", "embeddings.patch_embeddings.projection", "encoder.layer.",
     "norm1", "attention.attention.query", "attention.attention.key", "attention.attention.value",
     "attention.output.dense", "layer_scale1.lambda1", "norm2", "mlp.fc1", "mlp.fc2",
     "layer_scale2.lambda1", "layernorm", "classifier",
     {"cls_classifier", "distillation_classifier"}},
    {"transformers5", "dinov2", "embeddings.cls_token", "embeddings.distillation_token",
     "embeddings.position_embeddings", "embeddings.patch_embeddings.projection", "encoder.layer.",
     "norm1", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj",
     "layer_scale1.lambda1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale2.lambda1", "layernorm",
     "classifier", {"cls_classifier", "distillation_classifier"}},
    {"timm", "vit,deit,dinov2", "cls_token", "dist_token", "pos_embed", "patch_embed.proj",
     "blocks.", "norm1", "attn.qkv", NULL, NULL, "attn.proj", "ls1.gamma", "norm2", "mlp.fc1",
     "mlp.fc2", "ls2.gamma", "norm", "head", {"head", "head_dist"}},
    {"torchvision", "vit", "class_token", "", "encoder.pos_embedding", "conv_proj",
     "encoder.layers.encoder_layer_", "ln_1", "self_attention.in_proj", NULL, NULL,
     "self_attention.out_proj", "", "ln_2", "mlp.0", "mlp.3", "", "encoder.ln", "heads.head",
     {"", ""}},
    {"torchvision0.11", "vit", "class_token", "", "encoder.pos_embedding", "conv_proj",
     "encoder.layers.encoder_layer_", "ln_1", "self_attention.in_proj", NULL, NULL,
     "self_attention.out_proj", "", "ln_2", "mlp.linear_1", "mlp.linear_2", "", "encoder.ln",
     "heads.head", {"", ""}}};
enum { FT__VITS = sizeof ft__vits / sizeof ft__vits[0] };

/* What a file need not have: a head. What it may have too: the pretraining's. */
#define FT__VIT_LACKS "classifier.*,head.*,heads.head.*"
#define FT__VIT_HOLDS                                                                             \
    "pooler.*,*.pooler.*,*mask_token,cls_classifier.*,distillation_classifier.*,head_dist.*"

/* Builds the layers of one network; `text` is for the names that are being made. */
typedef struct ft__vit_builder {
    ft_model *m;
    const ft_network_options *o;
    const ft__vit_names *names;
    int layer;              /* -1: outside the layers */
    char text[3][256];
} ft__vit_builder;

/* "<prefix><part>", or in a layer "<prefix><layers><number>.<part>". `which` of the texts. */
static const char *ft__vit_name(ft__vit_builder *v, int which, const char *part)
{
    const char *prefix = v->o->prefix ? v->o->prefix : "";
    char *text = v->text[which];
    if (v->layer < 0) snprintf(text, sizeof v->text[0], "%s%s", prefix, part);
    else snprintf(text, sizeof v->text[0], "%s%s%d.%s", prefix, v->names->layers, v->layer, part);
    return text;
}

/* The node "<part>.<what>", which has no parameter. */
static const char *ft__vit_step(ft__vit_builder *v, int which, const char *part, const char *what)
{
    const char *name = ft__vit_name(v, which, part);
    size_t used = strlen(name);
    snprintf(v->text[which] + used, sizeof v->text[0] - used, ".%s", what);
    return name;
}

/* A parameter [1, rows, hidden], drawn from N(0, 0.02^2). */
static ft_node ft__vit_rows(ft__vit_builder *v, const char *part, int rows)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    p.size[0] = 1;
    p.size[1] = rows;
    p.size[2] = v->o->hidden;
    p.initialiser = FT_INIT_KAIMING_NORMAL; /* variance 2 / fan_out */
    p.fan_out = 5000;
    return ft_parameter(v->m, ft__vit_name(v, 0, part), p);
}

static ft_node ft__vit_linear(ft__vit_builder *v, const char *part, ft_node x, int features)
{
    ft_linear_options none;
    memset(&none, 0, sizeof none);
    return ft_linear(v->m, ft__vit_name(v, 0, part), x, features, none);
}

static ft_node ft__vit_norm(ft__vit_builder *v, const char *part, ft_node x)
{
    ft_layer_norm_options norm;
    norm.eps = v->o->norm_eps;
    return ft_layer_norm(v->m, ft__vit_name(v, 0, part), x, norm);
}

static ft_node ft__vit_dropout(ft__vit_builder *v, const char *part, ft_node x)
{
    ft_dropout_options o;
    memset(&o, 0, sizeof o);
    o.probability = v->o->dropout;
    return o.probability == 0 ? x : ft_dropout(v->m, ft__vit_step(v, 0, part, "dropout"), x, o);
}

/* picture [N, C, S, S] -> [N, patches, hidden], row by row of the picture. Both changes of shape
   are views: the convolution writes the features of a place side by side. */
static ft_node ft__vit_patches(ft__vit_builder *v, ft_node x, int side)
{
    static const int features_last[] = {0, 2, 3, 1};
    ft_conv2d_options conv;
    int size[2];
    memset(&conv, 0, sizeof conv);
    conv.kernel[0] = conv.stride[0] = v->o->patch_size;
    x = ft_conv2d(v->m, ft__vit_name(v, 0, v->names->patches), x, v->o->hidden, conv);
    x = ft_permute(v->m, ft__vit_step(v, 0, v->names->patches, "grid"), x, 4, features_last);
    size[0] = side * side;
    size[1] = v->o->hidden;
    return ft_reshape(v->m, ft__vit_step(v, 0, v->names->patches, "steps"), x, 2, size);
}

/* Puts the tokens before the patches, and adds the positions: both follow from weights alone and
   are added to each other first. */
static ft_node ft__vit_embeddings(ft__vit_builder *v, ft_node x)
{
    const ft__vit_names *n = v->names;
    int side = v->o->image_size / v->o->patch_size, tokens = v->o->distillation ? 2 : 1;
    ft_pad_options before, after;
    ft_node rows[2], table;
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    before.before[1] = tokens;
    after.after[1] = side * side;
    x = ft__vit_patches(v, x, side);
    rows[0] = ft__vit_rows(v, n->class_token, 1);
    if (tokens > 1) rows[1] = ft__vit_rows(v, n->distillation_token, 1);
    if (tokens > 1) rows[0] = ft_concat(v->m, ft__vit_name(v, 0, "tokens"), 2, rows, 1);
    rows[0] = ft_pad(v->m, ft__vit_step(v, 0, n->class_token, "rows"), rows[0], after);
    table = ft__vit_rows(v, n->positions, side * side + tokens);
    table = ft_add(v->m, ft__vit_step(v, 0, n->positions, "with_tokens"), table, rows[0]);
    x = ft_pad(v->m, ft__vit_step(v, 0, n->patches, "behind_tokens"), x, before);
    x = ft_add(v->m, ft__vit_step(v, 0, n->patches, "at_positions"), x, table);
    return ft__vit_dropout(v, n->patches, x);
}

/* q, k and v of one linear layer, whose parameters torchvision calls in_proj_weight and _bias. */
static ft_node ft__vit_packed(ft__vit_builder *v, ft_node x)
{
    ft_linear_options o;
    ft_parameter_options p;
    const char *name = v->names->query;
    int features = 3 * v->o->hidden;
    char text[64];
    memset(&o, 0, sizeof o);
    memset(&p, 0, sizeof p);
    o.no_bias = v->o->no_qkv_bias;
    if (strcmp(name, "self_attention.in_proj") == 0) {
        p.size[0] = features;
        p.size[1] = p.fan_in = v->o->hidden;
        snprintf(text, sizeof text, "%s_weight", name);
        o.weight = ft_parameter(v->m, ft__vit_name(v, 0, text), p);
        p.size[1] = 0;
        snprintf(text, sizeof text, "%s_bias", name);
        o.bias = ft_parameter(v->m, ft__vit_name(v, 0, text), p);
    }
    return ft_linear(v->m, ft__vit_name(v, 0, name), x, features, o);
}

/* x [N, T, hidden] -> the same */
static ft_node ft__vit_attention(ft__vit_builder *v, ft_node x)
{
    const ft__vit_names *n = v->names;
    ft_attention_options attention;
    ft_linear_options o;
    ft_node q, k, w;
    memset(&attention, 0, sizeof attention);
    memset(&o, 0, sizeof o);
    k.id = w.id = 0;
    attention.heads = v->o->heads;
    attention.dropout = v->o->attention_dropout;
    o.no_bias = v->o->no_qkv_bias;
    if (!n->key) q = ft__vit_packed(v, x);
    else {
        q = ft_linear(v->m, ft__vit_name(v, 0, n->query), x, v->o->hidden, o);
        k = ft_linear(v->m, ft__vit_name(v, 0, n->key), x, v->o->hidden, o);
        w = ft_linear(v->m, ft__vit_name(v, 0, n->value), x, v->o->hidden, o);
    }
    x = ft_attention(v->m, ft__vit_step(v, 0, n->output, "heads"), q, k, w, attention);
    return ft__vit_linear(v, n->output, x, v->o->hidden);
}

/* Stochastic depth of a residual's branch (ft_network_options.drop_path). */
static ft_node ft__vit_drop_path(ft__vit_builder *v, const char *part, ft_node x)
{
    ft_dropout_options o;
    memset(&o, 0, sizeof o);
    o.probability = v->o->drop_path;
    o.per_sample = true;
    if (!strcmp(v->names->spelling, "timm")) /* torch.linspace(0, drop_path, layers) */
        o.probability *= v->layer == 0 ? 0 : (float)v->layer / (float)(v->o->layers - 1);
    return o.probability == 0 ? x : ft_dropout(v->m, ft__vit_step(v, 0, part, "drop_path"), x, o);
}

/* x + drop_path(scale dropout(inner)); the scale only where the network has one. */
static ft_node ft__vit_residual(ft__vit_builder *v, const char *scale, const char *part, ft_node x,
                                ft_node inner)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    inner = ft__vit_dropout(v, part, inner);
    if (v->o->layer_scale) {
        p.size[0] = v->o->hidden;
        p.initialiser = FT_INIT_ONES;
        inner = ft_mul(v->m, ft__vit_step(v, 0, part, "scaled"), inner,
                       ft_parameter(v->m, ft__vit_name(v, 1, scale), p));
    }
    inner = ft__vit_drop_path(v, part, inner);
    return ft_add(v->m, ft__vit_step(v, 0, part, "residual"), inner, x);
}

/* x [N, T, hidden] -> the same */
static ft_node ft__vit_layer(ft__vit_builder *v, ft_node x)
{
    const ft__vit_names *n = v->names;
    const char *kind = v->o->activation ? v->o->activation : "gelu";
    ft_node inner = ft__vit_attention(v, ft__vit_norm(v, n->norm, x));
    x = ft__vit_residual(v, n->scale, n->output, x, inner);
    inner = ft__vit_norm(v, n->second_norm, x);
    inner = ft__vit_linear(v, n->up, inner, v->o->feed_forward);
    inner = ft__named_activation(v->m, kind, ft__vit_step(v, 0, n->up, "activation"), inner);
    inner = ft__vit_linear(v, n->down, inner, v->o->hidden);
    return ft__vit_residual(v, n->second_scale, n->down, x, inner);
}

/* One step of [N, T, hidden] -> [N, hidden] */
static ft_node ft__vit_token(ft__vit_builder *v, const char *name, ft_node x, int step)
{
    ft_step_pool_options first;
    ft_slice_options from;
    ft_node all = {0};
    memset(&first, 0, sizeof first);
    memset(&from, 0, sizeof from);
    first.kind = FT_POOL_FIRST;
    from.start[1] = step;
    from.stop[1] = step + 1;
    if (step > 0) x = ft_slice(v->m, "second_token", x, from);
    return ft_step_pool(v->m, name, x, all, first);
}

/* The mean of the patches -> [N, hidden] */
static ft_node ft__vit_mean(ft__vit_builder *v, ft_node x)
{
    ft_step_pool_options mean;
    ft_slice_options patches;
    ft_node all = {0};
    memset(&mean, 0, sizeof mean);
    memset(&patches, 0, sizeof patches);
    mean.kind = FT_POOL_MEAN;
    patches.start[1] = v->o->distillation ? 2 : 1;
    x = ft_slice(v->m, "patches", x, patches);
    return ft_step_pool(v->m, "patch_mean", x, all, mean);
}

/* Heads have no prefix. Two of them: the mean of the logits of the class token and of the
   distillation token, each from its own layer. */
static ft_node ft__vit_head(ft__vit_builder *v, ft_node x)
{
    ft_linear_options none;
    ft_unary_options half;
    ft_node parts[2];
    memset(&none, 0, sizeof none);
    memset(&half, 0, sizeof half);
    half.scale = 0.5f;
    parts[0] = ft__vit_token(v, "pooled", x, 0);
    if (v->o->two_heads) {
        parts[1] = ft__vit_token(v, "pooled_distillation", x, 1);
        parts[0] = ft_linear(v->m, v->names->heads[0], parts[0], v->o->classes, none);
        parts[1] = ft_linear(v->m, v->names->heads[1], parts[1], v->o->classes, none);
        x = ft_add(v->m, "logits_sum", parts[0], parts[1]);
        return ft_unary(v->m, "affine", "logits", x, half);
    }
    if (v->o->patch_mean) {
        parts[1] = ft__vit_mean(v, x);
        parts[0] = ft_concat(v->m, "pooled_and_mean", 2, parts, 1);
    }
    return ft_linear(v->m, v->names->head, parts[0], v->o->classes, none);
}

static const char *ft__vit_mask_token(const ft__vit_names *names)
{
    return strcmp(names->spelling, "timm") == 0 ? "mask_token" : "embeddings.mask_token";
}

/* The token that stood for hidden patches in DINOv2's pretraining. */
static void ft__vit_keep_mask_token(ft__vit_builder *v)
{
    ft_parameter_options p;
    memset(&p, 0, sizeof p);
    p.size[0] = 1;
    p.size[1] = v->o->hidden;
    p.initialiser = FT_INIT_ZEROS;
    p.buffer = true;
    if (v->o->mask_token)
        ft_parameter(v->m, ft__vit_name(v, 0, ft__vit_mask_token(v->names)), p);
}

static ft_status ft__vit_check(ft__vit_builder *v, const char *network)
{
    const ft_network_options *o = v->o;
    ft__context *c = &v->m->context;
    if (!v->names)
        return ft__fail(c, FT_INVALID, "%s: spelling is \"%s\": it must be transformers,"
                        " transformers5, timm or, of vit, torchvision", network, o->spelling);
    if (o->heads < 1)
        return ft__fail(c, FT_INVALID, "%s: the number of heads is needed, which no shape shows:"
                        " load the folder whose config.json says it, or set"
                        " ft_network_options.heads", network);
    if (o->hidden < 1 || o->hidden % o->heads != 0 || o->layers < 1 || o->feed_forward < 1
        || o->patch_size < 1 || o->patch_size > o->image_size || o->image_size > 1 << 14)
        return ft__fail(c, FT_INVALID, "%s: %d layers of %d features, %d heads, %d in between,"
                        " pictures of %d pixels in patches of %d: heads must divide the features, a"
                        " patch must not be larger than the picture, and all be above 0", network,
                        o->layers, o->hidden, o->heads, o->feed_forward, o->image_size,
                        o->patch_size);
    if (!(o->drop_path >= 0 && o->drop_path < 1))
        return ft__fail(c, FT_INVALID, "%s: drop_path is %g: it must be at least 0 and below 1",
                        network, (double)o->drop_path);
    if (o->two_heads && !o->distillation)
        return ft__fail(c, FT_INVALID, "%s: two_heads need the distillation token", network);
    return c->status;
}

/* Fills in what is not given. Transformers' ViT and DeiT have an eps of their own. */
static void ft__vit_defaults(ft_network_options *o, const char *network)
{
    bool dinov2 = !strcmp(network, "dinov2");
    if (!o->spelling) o->spelling = "transformers";
    if (o->hidden == 0) o->hidden = 768;
    if (o->layers == 0) o->layers = 12;
    if (o->feed_forward == 0) o->feed_forward = 4 * o->hidden;
    if (o->patch_size == 0) o->patch_size = dinov2 ? 14 : 16;
    if (o->norm_eps == 0)
        o->norm_eps = dinov2 || strncmp(o->spelling, "transformers", 12) != 0 ? 1e-6f : 1e-12f;
    if (dinov2) o->layer_scale = true;
    if (!strcmp(network, "deit")) o->distillation = true;
}

static ft_node ft__build_vision(ft__builder *b, const char *network)
{
    ft__vit_builder v;
    ft_node x, none = {0};
    ft_preprocessing p;
    bool halves;
    int i;
    memset(&v, 0, sizeof v);
    v.m = b->m;
    v.o = &b->o;
    v.layer = -1;
    ft__vit_defaults(&b->o, network);
    for (i = 0; i < FT__VITS && !v.names; ++i)
        if (!strcmp(ft__vits[i].spelling, b->o.spelling)
            && ft__glob(ft__vits[i].networks, network)) v.names = &ft__vits[i];
    if (ft__vit_check(&v, network) != FT_OK) return none;
    x = ft__vit_embeddings(&v, ft__picture_input(b));
    for (v.layer = 0; v.layer < b->o.layers && ft__ok(&v.m->context); v.layer += 1)
        x = ft__vit_layer(&v, x);
    v.layer = -1;
    x = ft__vit_head(&v, ft__vit_norm(&v, v.names->last_norm, x));
    ft__vit_keep_mask_token(&v);
    halves = !strcmp(network, "vit") && strncmp(b->o.spelling, "torchvision", 11) != 0;
    x = ft__classifier(b, x, halves ? 0 : ft__resize_for(b->o.image_size),
                       halves ? ft__halves : ft__imagenet_mean,
                       halves ? ft__halves : ft__imagenet_std);
    p = ft_get_preprocessing(v.m); /* of the published networks; a folder says it itself */
    p.bicubic = strcmp(network, "vit") != 0;
    if (ft__ok(&v.m->context)) ft_set_preprocessing(v.m, p);
    return x;
}

static ft_node ft__build_vit(ft__builder *b) { return ft__build_vision(b, "vit"); }
static ft_node ft__build_deit(ft__builder *b) { return ft__build_vision(b, "deit"); }
static ft_node ft__build_dinov2(ft__builder *b) { return ft__build_vision(b, "dinov2"); }

/* ---- Recognition ---- */

/* What is looked for in a file. */
typedef struct ft__vit_search {
    const ft__vit_names *names;
    const ft_file *file;
    const char *rename, *prefix;
} ft__vit_search;

/* A size of "<prefix><part>", or 0. */
static int ft__vit_size(const ft__vit_search *s, const char *part, int d)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", s->prefix, part);
    return ft__size_in_file(s->file, s->rename, name, d);
}

/* A size of "<prefix><layers><layer>.<part><end>", or 0. */
static int ft__vit_layer_size(const ft__vit_search *s, int layer, const char *part,
                              const char *end, int d)
{
    char name[200];
    snprintf(name, sizeof name, "%s%d.%s%s", s->names->layers, layer, part, end);
    return ft__vit_size(s, name, d);
}

/* Published networks have heads of 64 features, the largest 16 heads. 0: unknown. */
static int ft__vit_heads(int hidden)
{
    if (hidden == 1280 || hidden == 1408 || hidden == 1664) return 16;
    return hidden >= 192 && hidden <= 1536 && hidden % 64 == 0 ? hidden / 64 : 0;
}

/* Head, or both heads, of the file; none is as good. */
static void ft__vit_read_head(const ft__vit_search *s, ft_network_options *o)
{
    char first[64], second[64], only[64];
    int classes;
    snprintf(only, sizeof only, "%s.weight", s->names->head);
    snprintf(first, sizeof first, "%s.weight", s->names->heads[0]);
    snprintf(second, sizeof second, "%s.weight", s->names->heads[1]);
    o->two_heads = ft__size_in_file(s->file, s->rename, second, 0) > 0
        && ft__size_in_file(s->file, s->rename, first, 0) > 0;
    classes = ft__size_in_file(s->file, s->rename, o->two_heads ? first : only, 0);
    o->patch_mean = !o->two_heads
        && ft__size_in_file(s->file, s->rename, only, 1) == 2 * o->hidden;
    if (classes > 0) o->classes = classes;
}

/* Sizes from the shapes in a file. */
static bool ft__size_vit(const ft__vit_search *s, const char *network, ft_network_options *o)
{
    const ft__vit_names *n = s->names;
    bool torchvision = !strncmp(n->spelling, "torchvision", 11);
    const char *weight = torchvision ? "_weight" : ".weight";
    char patches[128];
    int rows = ft__vit_size(s, n->positions, 1), tokens, side;
    snprintf(patches, sizeof patches, "%s.weight", n->patches);
    o->hidden = ft__vit_size(s, n->class_token, 2);
    o->patch_size = ft__vit_size(s, patches, 2);
    o->distillation = *n->distillation_token && ft__vit_size(s, n->distillation_token, 2) > 0;
    tokens = o->distillation ? 2 : 1;
    side = ft__grid_side(rows - tokens);
    if (!o->hidden || !o->patch_size || ft__vit_size(s, patches, 3) != o->patch_size
        || rows <= tokens || !side) return false;
    o->channels = ft__vit_size(s, patches, 1);
    for (o->layers = 0; o->layers < 10000; o->layers += 1)
        if (!ft__vit_layer_size(s, o->layers, n->query, weight, 0)) break;
    o->feed_forward = ft__vit_layer_size(s, 0, n->up, ".weight", 0);
    o->layer_scale = *n->scale && ft__vit_layer_size(s, 0, n->scale, "", 0) > 0;
    o->no_qkv_bias = !ft__vit_layer_size(s, 0, n->query, torchvision ? "_bias" : ".bias", 0);
    if (!o->layers || !o->feed_forward || o->distillation != !strcmp(network, "deit")
        || o->layer_scale != !strcmp(network, "dinov2")) return false;
    if (!o->image_size && !(o->layer_scale && side * o->patch_size > 224))
        o->image_size = side * o->patch_size; /* DINOv2 of 518 pixels is used with 224 */
    if (!o->heads) {
        o->heads = ft__vit_heads(o->hidden);
        if (o->heads)
            ft__log(s->file->context, "%s: %d heads, as in published networks of %d features:"
                    " ft_network_options.heads says another number", s->file->path, o->heads,
                    o->hidden);
    }
    o->spelling = n->spelling;
    o->mask_token = ft__vit_size(s, ft__vit_mask_token(n), 1) == o->hidden;
    ft__vit_read_head(s, o);
    return true;
}

static bool ft__matches_vision(const ft__network *network, const ft_file *file,
                               const char *rename, ft_network_options *o)
{
    static const char *const prefixes[] = {"vit.", "deit.", "dinov2.", ""};
    ft_network_options asked = *o;
    ft__vit_search s;
    int i, k;
    s.file = file;
    s.rename = rename;
    for (i = 0; i < FT__VITS; ++i)
        for (k = 0; k < 4 && ft__glob(ft__vits[i].networks, network->name); ++k) {
            *o = asked;
            s.names = &ft__vits[i];
            s.prefix = o->prefix = prefixes[k];
            if (ft__size_vit(&s, network->name, o)) return true;
        }
    *o = asked;
    return false;
}

/* ---- Both spellings of transformers, for adapters ---- */

/* The spelling of a model's names; NULL: it is none of these networks. */
static const ft__vit_names *ft__vit_spelling(const ft_model *m)
{
    char name[200];
    int i, k;
    for (i = 0; i < FT__VITS; ++i)
        for (k = 0; k < 2 && ft__glob(ft__vits[i].networks, m->architecture); ++k) {
            snprintf(name, sizeof name, "%s%s%s0.%s", k ? "" : m->architecture, k ? "" : ".",
                     ft__vits[i].layers, ft__vits[i].query);
            if (ft__find_node(m, name).id) return &ft__vits[i];
        }
    return NULL;
}

/* The other spelling of the same network in transformers; NULL: names come from elsewhere. */
static const ft__vit_names *ft__vit_other(const ft__vit_names *names)
{
    int i;
    for (i = 0; names && i < FT__VITS; ++i)
        if (&ft__vits[i] != names && !strcmp(ft__vits[i].networks, names->networks)
            && strncmp(names->spelling, "transformers", 12) == 0) return &ft__vits[i];
    return NULL;
}

/* A part of a layer in the other spelling; `rest`: what follows its name. */
static const char *ft__vit_part(const ft__vit_names *from, const ft__vit_names *to,
                                const char *name, const char **rest)
{
    const char *const parts[][2] = {
        {from->norm, to->norm}, {from->query, to->query}, {from->key, to->key},
        {from->value, to->value}, {from->output, to->output}, {from->up, to->up},
        {from->down, to->down}, {from->second_norm, to->second_norm}};
    size_t i;
    for (i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
        size_t length = strlen(parts[i][0]);
        if (strncmp(name, parts[i][0], length) != 0) continue;
        *rest = name + length;
        if (**rest == '.' || **rest == 0) return parts[i][1];
    }
    *rest = name;
    return "";
}

/* Writes a name in the other spelling; names outside the layers are the same in both. */
static void ft__vit_respell(const ft__vit_names *from, const ft__vit_names *to, const char *name,
                            char *out, size_t size)
{
    const char *layers = from && to ? strstr(name, from->layers) : NULL, *number, *part, *rest;
    size_t digits;
    snprintf(out, size, "%s", name);
    if (!layers || (layers > name && layers[-1] != '.')) return;
    number = layers + strlen(from->layers);
    digits = strspn(number, "0123456789");
    if (digits == 0 || number[digits] != '.') return;
    part = ft__vit_part(from, to, number + digits + 1, &rest);
    snprintf(out, size, "%.*s%s%.*s.%s%s", (int)(layers - name), name, to->layers, (int)digits,
             number, part, rest);
}
