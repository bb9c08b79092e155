#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "text/tokenizing.h"
#include "text/sequences.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/correlation.h"
#include "training/metrics.h"
#include "training/evaluate.h"

/* =============================================================================================
   [SECTION] training/embed: Vectors of texts
   The texts become a source of tokens, so that batches hold texts of similar length, as in
   ft_predict_data. The node of ft_set_text_vector is read after each run.
   ============================================================================================= */
static bool ft__tokenized_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    int s;
    (void)view;
    for (s = 0; s < slot_count; ++s)
        ft__tokenized_fill((const ft__tokenized *)user, index, "tokens", "lengths", &slots[s]);
    return true;
}

static int ft__tokenized_steps(void *user, int index)
{
    return ft__tokenized_length((const ft__tokenized *)user, index);
}

/* Reads all texts. */
static bool ft__tokenize_all(ft_model *m, const char *const *texts, int count, ft__tokenized *t)
{
    ft__context *c = &m->context;
    int i, cut = 0;
    ft__tokenized_begin(c, t, count);
    for (i = 0; ft__ok(c) && i < count; ++i)
        if (ft__given(c, texts[i], "ft_embed_texts: a text"))
            cut += ft__tokenized_add(t, i, m->tokenizer, texts[i], ft_max_length(m));
    if (cut && ft__ok(c))
        ft__log(c, "%d of the texts have more than %d tokens (max_length): their ends are cut off",
                cut, ft_max_length(m));
    return ft__ok(c);
}

/* Writes a row of numbers; with `normalize` it is divided by its length, at least 1e-12 as in
   PyTorch's normalize. False: a number is not finite. */
static bool ft__write_vector(const float *from, int count, bool normalize, float *to)
{
    double sum = 0, length;
    int j;
    for (j = 0; j < count; ++j) sum += (double)from[j] * (double)from[j];
    length = normalize ? sqrt(sum) : 1;
    if (length < 1e-12) length = 1e-12;
    for (j = 0; j < count; ++j) to[j] = (float)((double)from[j] / length);
    return sum - sum == 0;
}

/* Runs all texts; returns how many. */
static int ft__embed_run(ft_model *m, ft__pass *pass, float *vectors)
{
    const ft__node *node = &m->nodes[m->text_vector.id - 1];
    const ft__batch *batch;
    int features = node->shape.size[1], done = 0, i;
    ft__loader_start(pass->loader, pass->order, NULL, ft_data_count(pass->loader->data));
    while ((batch = ft__pass_next(pass, FT__ONLY_OUTPUT)) != NULL) {
        const float *value = pass->plan->values[m->text_vector.id - 1];
        ft__to_host(&m->context, value,
                    ft__node_count_at(node, ft__extent_of(m, batch->count)) * sizeof *value);
        for (i = 0; ft__ok(&m->context) && i < batch->count; ++i)
            if (!ft__write_vector(value + (size_t)i * (size_t)features, features,
                                  m->vector_options.normalize,
                                  vectors + (size_t)batch->index[i] * (size_t)features))
                ft__fail(&m->context, FT_NOT_FINITE, "ft_embed_texts: the vector of text %d is not"
                         " finite", batch->index[i]);
        done += batch->count;
    }
    return ft__ok(&m->context) ? done : 0;
}

static bool ft__can_embed(ft_model *m, int count, size_t numbers, const ft_embed_options *o)
{
    ft__context *c = &m->context;
    size_t features = 0, want = 0;
    if (!m->text_vector.id)
        ft__fail(c, FT_INVALID, "ft_embed_texts: nothing says how the tokens of a text become one"
                 " vector: load the model with ft_network_options.pooling, or use"
                 " ft_set_text_vector");
    else if (!m->tokenizer || !ft__find_node(m, "tokens").id)
        ft__fail(c, FT_INVALID, "ft_embed_texts: text needs a model with an input \"tokens\" and a"
                 " tokeniser (ft_set_tokenizer)");
    else features = (size_t)m->nodes[m->text_vector.id - 1].shape.size[1];
    if (ft__ok(c) && (count < 1 || o->batch_size < 0))
        ft__fail(c, FT_INVALID, "ft_embed_texts: count is %d and batch_size %d; count must be at"
                 " least 1, batch_size not negative", count, o->batch_size);
    if (ft__ok(c) && (!ft__multiply((size_t)count, features, &want) || numbers != want))
        ft__fail(c, FT_SHAPE, "ft_embed_texts: %d vectors of %zu features have %zu numbers, not"
                 " numbers = %zu", count, features, want, numbers);
    return ft__ok(c);
}

static int ft__embed_texts(ft_model *m, const char *const *texts, int count, float *vectors,
                           size_t numbers, ft_embed_options options)
{
    ft__context *c;
    ft__tokenized t;
    ft_source source;
    ft_data *data;
    ft__pass pass;
    int done = 0;
    if (!ft__usable(m)) return 0;
    c = &m->context;
    if (!ft__given(c, texts, "ft_embed_texts: the texts")
        || !ft__given(c, vectors, "ft_embed_texts: vectors")
        || !ft__can_embed(m, count, numbers, &options)) return 0;
    memset(&t, 0, sizeof t);
    memset(&source, 0, sizeof source);
    if (ft__tokenize_all(m, texts, count, &t)) {
        source.user = &t;
        source.count = count;
        source.get = ft__tokenized_get;
        source.length = ft__tokenized_steps;
        data = ft_data_source(m, source);
        if (data) data->fills = "tokens,lengths";
        if (data) data->pieces = ft_tokenizer_count(m->tokenizer);
        if (data && ft__check_words(m, data) == FT_OK) {
            pass = ft__pass_begin(m, data, options.batch_size, 0, true, false);
            if (pass.loader) done = ft__embed_run(m, &pass, vectors);
            ft__pass_end(&pass);
        }
        ft_data_free(data);
    }
    ft__tokenized_free(c, &t);
    return done;
}

/* The cosine of two vectors; 0 where one is all zeros. */
static double ft__cosine(const float *a, const float *b, int count)
{
    double ab = 0, aa = 0, bb = 0;
    int j;
    for (j = 0; j < count; ++j) {
        ab += (double)a[j] * (double)b[j];
        aa += (double)a[j] * (double)a[j];
        bb += (double)b[j] * (double)b[j];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* ft_evaluate for pairs with numbers: how well the cosines of their vectors say these. */
static ft_evaluation ft__evaluate_pairs(ft_model *m, ft_data *data, ft_evaluate_options options)
{
    ft__context *c = &m->context;
    int count = ft_data_count(data), i, features;
    const char **texts = (const char **)ft__allocate(c, 2 * (size_t)count, sizeof *texts);
    double *numbers = (double *)ft__allocate(c, 2 * (size_t)count, sizeof *numbers);
    float *vectors = NULL;
    ft_embed_options how;
    ft_evaluation e;
    memset(&e, 0, sizeof e);
    memset(&how, 0, sizeof how);
    how.batch_size = options.batch_size;
    if (data->model != m)
        ft__fail(c, FT_INVALID, "the data belongs to another model: create it with this model");
    if (options.confusion || options.confusion_count || options.sample || options.metrics)
        ft__fail(c, FT_INVALID, "ft_evaluate: confusion, sample and metrics have no effect here:"
                 " they are for a model that predicts classes or numbers");
    for (i = 0; ft__ok(c) && i < count; ++i)
        if (!data->features.pair(data->source.user, i, texts + 2 * i, numbers + i))
            ft__fail(c, FT_INVALID, "ft_evaluate: the pairs have no numbers that say how similar"
                     " their texts are (ft_text_options.label_column)");
    features = m->text_vector.id ? m->nodes[m->text_vector.id - 1].shape.size[1] : 1;
    if (ft__ok(c))
        vectors = (float *)ft__allocate(c, 2 * (size_t)count * (size_t)features, sizeof *vectors);
    if (vectors && ft__embed_texts(m, texts, 2 * count, vectors,
                                   2 * (size_t)count * (size_t)features, how)) {
        for (i = 0; i < count; ++i) {
            const float *first = vectors + 2 * (size_t)i * (size_t)features;
            numbers[count + i] = ft__cosine(first, first + features, features);
        }
        e.similarity = true;
        e.total = count;
        e.accuracy = e.low = e.high = -1;
        e.pearson = ft__pearson(numbers, numbers + count, count);
        e.spearman = ft__spearman(c, numbers, numbers + count, count);
    }
    ft__release(c, vectors);
    ft__release(c, numbers);
    ft__release(c, (void *)(uintptr_t)texts);
    return e;
}
