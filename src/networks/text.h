#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/linear.h"
#include "operators/losses.h"
#include "operators/embedding.h"
#include "operators/step_pool.h"
#include "operators/recurrent_layers.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/decoding.h"
#include "graph/settings.h"
#include "graph/surgery.h"
#include "graph/building.h"
#include "formats/weights.h"
#include "text/tokenizers.h"
#include "text/tokenizer_steps.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "networks/images.h"

/* =============================================================================================
   [SECTION] networks/text: Networks over text
   Inputs: "tokens" I32 [N, L]; for classifiers also "lengths" I32 [N]; and "labels": for a language
   model the next tokens, [N, L], for a classifier [N]. Parameters: "embedding.weight", "lstm.*" or
   "gru.*" as PyTorch calls them, and the head "fc", "decoder" or, in the character network, "out".
   ============================================================================================= */
static const char ft__token_head[] = "classifier"; /* the layer that gives a class to each token */

static ft_node ft__tokens_input(ft_model *m, const char *name, bool steps)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.type = FT_I32;
    if (steps) o.size[0] = FT_LENGTH;
    return ft_input(m, name, o);
}

static ft_node ft__text_end(ft_model *m, ft_node logits, bool steps)
{
    ft_loss_options loss;
    memset(&loss, 0, sizeof loss);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, ft__tokens_input(m, "labels", steps),
                                    loss));
    return logits;
}

static ft_node ft__text_dropout(ft_model *m, const char *name, ft_node x, float probability,
                                bool locked)
{
    ft_dropout_options o;
    memset(&o, 0, sizeof o);
    o.probability = probability;
    o.locked = locked;
    return probability == 0 ? x : ft_dropout(m, name, x, o);
}

/* From words to the outputs of the last layer. */
static ft_node ft__encoder(ft__builder *b, bool gru, bool carry, ft_node lengths)
{
    const ft_network_options *o = &b->o;
    ft_embedding_options embedding;
    ft_recurrent_options layers;
    ft_node x = ft__tokens_input(b->m, "tokens", true);
    memset(&embedding, 0, sizeof embedding);
    memset(&layers, 0, sizeof layers);
    layers.layers = o->layers;
    layers.bidirectional = o->bidirectional && !carry;
    layers.dropout = o->dropout;
    layers.locked = true;
    layers.carry = carry;
    layers.lengths = lengths;
    x = ft_embedding(b->m, "embedding", x, o->words, o->embedding, embedding);
    x = ft__text_dropout(b->m, "embedding_dropout", x, o->dropout, true);
    return gru ? ft_gru(b->m, "gru", x, o->hidden, layers)
               : ft_lstm(b->m, "lstm", x, o->hidden, layers);
}

static void ft__text_defaults(ft__builder *b, int embedding, int hidden, int layers)
{
    if (b->o.words == 0) b->o.words = 10000;
    if (b->o.embedding == 0) b->o.embedding = embedding;
    if (b->o.hidden == 0) b->o.hidden = hidden;
    if (b->o.layers == 0) b->o.layers = layers;
}

static ft_node ft__language_model(ft__builder *b, const char *head)
{
    ft_linear_options linear;
    ft_node x;
    memset(&linear, 0, sizeof linear);
    x = ft__encoder(b, false, true, linear.weight);
    x = ft__text_dropout(b->m, "output_dropout", x, b->o.dropout, true);
    if (b->o.tied) linear.weight = ft_find(b->m, "embedding.weight");
    return ft__text_end(b->m, ft_linear(b->m, head, x, b->o.words, linear), true);
}

/* The ml5.js character networks: two layers of 128. */
static ft_node ft__build_char_rnn(ft__builder *b)
{
    if (b->o.words == 0) b->o.words = 65;
    ft__text_defaults(b, 128, 128, 2);
    return ft__language_model(b, "out");
}

static ft_node ft__build_lstm_lm(ft__builder *b)
{
    ft__text_defaults(b, 256, b->o.tied && b->o.embedding ? b->o.embedding : 256, 2);
    return ft__language_model(b, "decoder");
}

static ft_node ft__text_classifier(ft__builder *b, bool gru)
{
    ft_step_pool_options pool;
    ft_linear_options linear;
    ft_node x, lengths;
    memset(&pool, 0, sizeof pool);
    memset(&linear, 0, sizeof linear);
    ft__text_defaults(b, 128, 256, 1);
    lengths = ft__tokens_input(b->m, "lengths", false);
    pool.kind = b->o.pooling;
    pool.bidirectional = b->o.bidirectional;
    x = ft_step_pool(b->m, "pool", ft__encoder(b, gru, false, lengths), lengths, pool);
    x = ft__text_dropout(b->m, "output_dropout", x, b->o.dropout, false);
    return ft__text_end(b->m, ft_linear(b->m, "fc", x, b->o.classes, linear), false);
}

static ft_node ft__build_lstm_classifier(ft__builder *b) { return ft__text_classifier(b, false); }
static ft_node ft__build_gru_classifier(ft__builder *b) { return ft__text_classifier(b, true); }

/* Sets sizes from the shapes in a file; false if it has no such layers after an embedding. */
static bool ft__size_encoder(const ft_file *file, const char *rename, const char *layer, int gates,
                             ft_network_options *o)
{
    char name[64];
    o->words = ft__size_in_file(file, rename, "embedding.weight", 0);
    o->embedding = ft__size_in_file(file, rename, "embedding.weight", 1);
    snprintf(name, sizeof name, "%s.weight_ih_l0", layer);
    o->hidden = ft__size_in_file(file, rename, name, 0) / gates;
    snprintf(name, sizeof name, "%s.weight_ih_l0_reverse", layer);
    o->bidirectional = ft__find_renamed(file, rename, name) >= 0;
    for (o->layers = 0; o->layers < 1000; ++o->layers) {
        snprintf(name, sizeof name, "%s.weight_ih_l%d", layer, o->layers);
        if (ft__find_renamed(file, rename, name) < 0) break;
    }
    return o->words > 0 && o->embedding > 0 && o->hidden > 0 && o->layers > 0;
}

static bool ft__matches_char_rnn(const ft__network *network, const ft_file *file,
                                 const char *rename, ft_network_options *o)
{
    (void)network;
    return ft__size_encoder(file, rename, "lstm", 4, o) && !o->bidirectional
        && ft__size_in_file(file, rename, "out.weight", 0) == o->words;
}

static bool ft__matches_lstm_lm(const ft__network *network, const ft_file *file,
                                const char *rename, ft_network_options *o)
{
    (void)network;
    int decoder = ft__find_renamed(file, rename, "decoder.weight");
    int embedding = ft__find_renamed(file, rename, "embedding.weight");
    o->tied = decoder < 0 || (embedding >= 0 && ft__same_data(&file->tensors[decoder],
                                                              &file->tensors[embedding]));
    return ft__size_encoder(file, rename, "lstm", 4, o) && !o->bidirectional
        && ft__size_in_file(file, rename, "decoder.bias", 0) == o->words;
}

static bool ft__matches_text_classifier(const ft__network *network, const ft_file *file,
                                        const char *rename, ft_network_options *o)
{
    bool gru = strcmp(network->name, "gru_classifier") == 0;
    int wide, pooled;
    if (!ft__size_encoder(file, rename, gru ? "gru" : "lstm", gru ? 3 : 4, o)) return false;
    o->classes = ft__size_in_file(file, rename, "fc.weight", 0);
    wide = o->hidden * (o->bidirectional ? 2 : 1);
    pooled = ft__size_in_file(file, rename, "fc.weight", 1);
    if (pooled == 3 * wide) o->pooling = FT_POOL_ALL;
    return o->classes > 0 && (pooled == wide || pooled == 3 * wide);
}

/* ---- A language model becomes a classifier (Howard and Ruder 2018, ULMFiT) ---- */

/* Replaces carried states by lengths: each text starts from zero and ends at its own last step. */
static void ft__uncarry(ft_model *m, ft__node *node, int lengths)
{
    ft__recurrent_options *o = &node->options.recurrent;
    int weights = 1 + (o->bidirectional ? 2 : 1) * (o->no_bias ? 2 : 4), states[3], count = 0, i;
    for (i = weights; i < node->input_count && count < 3; ++i) states[count++] = node->inputs[i];
    o->carry = o->initial = false;
    o->lengths = true;
    node->inputs[weights] = lengths;
    node->input_count = weights + 1;
    for (i = 0; i < count; ++i)
        if (ft__is_state(&m->nodes[states[i] - 1])) ft__remove_unread(m, states[i]);
}

/* The embedding's weight, [words, features], maybe behind a dropout of words; or NULL. */
static ft__node *ft__word_weight(ft_model *m)
{
    int i, id;
    for (i = 0; i < m->node_count; ++i) {
        if (!ft__is(&m->nodes[i], FT__LOOKS_UP)) continue;
        for (id = m->nodes[i].inputs[1]; ft__is(&m->nodes[id - 1], FT__NOISE);)
            id = m->nodes[id - 1].inputs[0];
        return ft__is_parameter(&m->nodes[id - 1]) ? &m->nodes[id - 1] : NULL;
    }
    return NULL;
}

/* Appends rows to a weight [rows, columns], each the mean of the existing ones. */
static ft_status ft__add_mean_rows(ft_model *m, ft__node *weight, int more)
{
    ft__context *c = &m->context;
    size_t rows = (size_t)weight->shape.size[0], columns = (size_t)weight->shape.size[1], i, j;
    ft__stored old;
    float *value;
    ft__host_takes_weights(c, true);
    value = (float *)ft__allocate(c, (rows + (size_t)more) * columns, sizeof *value);
    if (!value) return c->status;
    old = ft__stored_of(weight);
    ft__read_stored_run(c, &old, 0, rows * columns, value);
    for (j = 0; j < columns; ++j) {
        double sum = 0;
        for (i = 0; i < rows; ++i) sum += (double)value[i * columns + j];
        for (i = rows; i < rows + (size_t)more; ++i)
            value[i * columns + j] = (float)(sum / (double)rows);
    }
    ft__release_value(c, weight);
    ft__release_training(c, weight);
    weight->value = value;
    weight->shape.size[0] += more;
    m->weights_version += 1;
    return ft__infer_all(m);
}

static ft_status ft__check_new_words(ft_model *m, const ft_tokenizer *from)
{
    const ft__node *weight = ft__word_weight(m);
    int words = m->tokenizer ? m->tokenizer->pieces.count : 0;
    if (!FT__HAS(m, TEXT)) return m->context.status;
    if (from->model == m && from->kind == FT_WORDS && m->tokenizer
        && m->tokenizer->kind == FT_WORDS && weight && weight->shape.size[0] == words) return FT_OK;
    return ft__fail(&m->context, FT_INVALID, "new words: both vocabularies must be FT_WORDS and"
                    " belong to this model, whose embedding must have its %d words", words);
}

/* A vocabulary of words, with the words of another that it lacks appended. */
static ft_tokenizer *ft__tokenizer_with(const ft_tokenizer *t, const ft_tokenizer *other)
{
    ft_tokenizer *both = ft__tokenizer_make(t->model, t->kind);
    int id;
    if (!both) return NULL;
    both->unknown = t->unknown;
    for (id = 0; id < t->pieces.count; ++id)
        ft__vocabulary_add(&both->pieces, ft__piece_text(&t->pieces, id),
                           ft__piece_bytes(&t->pieces, id));
    for (id = 0; id < other->pieces.count; ++id)
        if (ft__find_piece(t, ft__piece_text(&other->pieces, id)) < 0)
            ft__vocabulary_add(&both->pieces, ft__piece_text(&other->pieces, id),
                               ft__piece_bytes(&other->pieces, id));
    if (ft__ok(&t->model->context)) ft__set_steps(both, t->steps, "new words");
    return ft__tokenizer_finish(both, "new words");
}

/* Adds the words of another vocabulary: the model's tokeniser and its embedding grow. */
static void ft__add_words(ft_model *m, const ft_tokenizer *from)
{
    int before = m->tokenizer->pieces.count;
    ft_tokenizer *grown = FT__HAS_TEXT ? ft__tokenizer_with(m->tokenizer, from) : NULL;
    if (grown && ft_set_tokenizer(m, grown) == FT_OK)
        ft__add_mean_rows(m, ft__word_weight(m), grown->pieces.count - before);
}

/* Moves lengths to the front: an encoder's layers can only read what comes before them. */
static void ft__move_first(ft_model *m, int id)
{
    int at = m->node_count - 1;
    while (m->order[at] != id) --at;
    memmove(m->order + 1, m->order, (size_t)at * sizeof *m->order);
    m->order[0] = id;
}

/* ---- A classifier of texts becomes one of tokens ---- */

/* The node that makes one vector of all steps, nearest to the output; NULL: there is none. */
static ft__node *ft__last_pool(ft_model *m)
{
    int at;
    for (at = m->node_count - 1; at >= 0; --at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        if (ft__rows[node->op] == &ft__row_step_pool) return node;
    }
    return NULL;
}

/* Removes the loss, and what `x`, the new output, is not computed from. */
static ft_status ft__cut_to(ft_model *m, ft_node x)
{
    char *architecture = ft__copy_text(&m->context, m->architecture);
    if (architecture && ft_cut(m, x) == FT_OK) ft__set_architecture(m, architecture);
    ft__release(&m->context, architecture);
    return m->context.status;
}

/* Replaces what follows the last layer over steps, the pooling and the head, by a dropout like the
   head's and a linear layer over each step: as Hugging Face's ...ForTokenClassification. */
static ft_status ft__to_token_classifier(ft_model *m, int classes)
{
    const ft__node *pool = ft__last_pool(m), *head = ft__head(m), *before;
    ft_linear_options linear;
    char dropout[300] = "";
    float probability = 0;
    ft_node x;
    if (!ft__usable(m)) return ft__status_of(m);
    if (!pool || !head || !ft__classifies_samples(m))
        return ft__fail(&m->context, FT_INVALID, "a class of each word needs a network that reads"
                        " text and pools its steps, or one that gives a class of each token");
    memset(&linear, 0, sizeof linear);
    before = &m->nodes[head->inputs[0] - 1];
    if (ft__is(before, FT__NOISE)) {
        snprintf(dropout, sizeof dropout, "%s", before->name);
        probability = before->options.dropout.probability;
    }
    x.id = pool->inputs[0];
    if (ft__cut_to(m, x) != FT_OK) return m->context.status;
    if (*dropout) x = ft__text_dropout(m, dropout, x, probability, false);
    ft__text_end(m, ft_linear(m, ft__token_head, x, classes, linear), true);
    return m->context.status;
}

/* Has the network layers that look back? */
static bool ft__is_recurrent(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__RECURRENT)) return true;
    return false;
}

ft_status ft_language_model_to_classifier(ft_model *m, int classes,
                                          ft_language_model_to_classifier_options options)
{
    ft__node *head = ft__usable(m) ? ft__head(m) : NULL;
    ft_linear_options linear;
    ft_activation_options none;
    ft_step_pool_options pool;
    ft_node x, lengths;
    bool recurrent, causal;
    int i;
    if (!ft__usable(m)) return ft__status_of(m);
    recurrent = ft__is_recurrent(m);
    causal = !recurrent && ft__can_decode(m);
    if (!causal && !FT__HAS(m, RECURRENT)) return m->context.status;
    if (ft__refuse_any_shared(m, "ft_language_model_to_classifier") != FT_OK)
        return m->context.status;
    if (!head || !(recurrent || causal) || head->shape.rank != 3 || classes < 1
        || ft__find_node(m, "lengths").id)
        return ft__fail(&m->context, FT_INVALID, "ft_language_model_to_classifier: needs a network"
                        " of recurrent layers or causal attention with a linear layer over each"
                        " step, without \"lengths\", and classes above 0 (%d)", classes);
    if (options.new_words && ft__check_new_words(m, options.new_words) != FT_OK)
        return m->context.status;
    memset(&linear, 0, sizeof linear);
    memset(&none, 0, sizeof none);
    x.id = head->inputs[0];
    if (m->loss.id) ft__remove_unread(m, m->loss.id);
    ft__remove_unread(m, (int)(head - m->nodes) + 1);
    m->output.id = m->loss.id = 0;
    if (options.new_words) ft__add_words(m, options.new_words);
    lengths = ft__tokens_input(m, "lengths", false);
    if (!lengths.id) return m->context.status;
    ft__move_first(m, lengths.id);
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__RECURRENT)) ft__uncarry(m, &m->nodes[i], lengths.id);
    memset(&pool, 0, sizeof pool);
    pool.kind = recurrent ? FT_POOL_ALL : FT_POOL_LAST;
    linear.no_bias = !recurrent; /* as Hugging Face's ...ForSequenceClassification */
    x = ft__text_dropout(m, "pool_dropout", ft_step_pool(m, "pool", x, lengths, pool),
                         options.dropout, false);
    if (options.hidden > 0) {
        x = ft_linear(m, "hidden", x, options.hidden, linear);
        x = ft_activation(m, "relu", "hidden_relu", x, none);
        x = ft__text_dropout(m, "hidden_dropout", x, options.dropout, false);
    }
    ft__text_end(m, ft_linear(m, recurrent ? "fc" : "score", x, classes, linear), false);
    return recurrent ? ft__set_architecture(m, "") : m->context.status;
}
