#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "graph/surgery.h"
#include "graph/adapters.h"
#include "graph/pair_loss.h"
#include "graph/losses.h"
#include "networks/text.h"
#include "networks/bag_of_words.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "training/metrics.h"
#include "training/prefix_cache.h"
#include "training/run_checkpoints.h"
#include "training/mixing.h"
#include "training/bag_of_words.h"
#include "training/class_means.h"
#include "training/recipe.h"

/* =============================================================================================
   [SECTION] training/recipe_text: The recipe for text
   A language model, or a classifier with random weights, is trained as it is, all layers at once. A
   classifier whose layers were pretrained on other text is unfrozen layer by layer from the head
   down, as in ULMFiT (Howard and Ruder 2018), so that a random head does not spoil what they
   learnt. The learning rate falls by a factor of 2.6 with each layer below the head. Gradients are
   clipped (Pascanu et al. 2013), since those of recurrent layers may be large now and then.
   A transformer's head comes first, as for pictures: on the vectors of the frozen layers, whose
   outputs are cached. Then it is trained whole, as BERT's authors do: AdamW, a rate that rises over
   the first tenth of the steps and then falls to 0, no decay of biases and norms (Devlin et al.
   2018).
   ============================================================================================= */
enum { FT__MOST_LAYERS = 8 };
static const char *const ft__thaw_names[FT__MOST_LAYERS] = {"head", "top 2", "top 3", "top 4",
                                                            "top 5", "top 6", "top 7", "all"};
static const double ft__layer_factor = 2.6;

/* Sets layer[id - 1] of each parameter: 0 for the embedding, then one for each recurrent layer, and
   the last for what follows them. Returns the number of layers. */
static int ft__text_layers(const ft_model *m, int *layer)
{
    int count = 0, last = 0, at, i;
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (ft__is(node, FT__RECURRENT)) last = ++count;
        for (i = 0; i < node->input_count; ++i)
            if (ft__is_parameter(&m->nodes[node->inputs[i] - 1]))
                layer[node->inputs[i] - 1] = ft__is(node, FT__RECURRENT) ? count : -count - 1;
    }
    for (i = 0; i < m->node_count; ++i) /* the head: all after the last recurrent layer */
        if (layer[i] < 0) layer[i] = -layer[i] - 1 < last ? -layer[i] - 1 : last + 1;
    return last + 2;
}

/* Unfreezes the `open` layers nearest to the head. Learning rates fall with the distance from it,
   unless the caller has set factors. */
static void ft__thaw(ft_model *m, const int *layer, int layers, int open, bool own_factors)
{
    int i;
    ft__set_frozen(m, "*", false);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_parameter(node)) continue;
        node->frozen = layer[i] < layers - open;
        if (!own_factors)
            node->learning_rate_factor =
                (float)(1 / ft__power(ft__layer_factor, (uint64_t)(layers - 1 - layer[i])));
    }
    ft__freeze_first_dropouts(m);
}

static ft_fit_options ft__text_options(const ft__recipe *r, bool pretrained, bool stream)
{
    int samples = ft_data_count(r->data);
    ft_fit_options o = ft__recipe_common(r, FT__ALL);
    o.schedule = FT_ONE_CYCLE;
    o.optimizer.clip_norm = 1;
    o.optimizer.learning_rate = pretrained && !stream ? 4e-3f : 3e-3f;
    o.batch_size = stream ? 0 : samples < 1000 ? 16 : 32;
    o.epochs = stream ? 10 : samples < 1000 ? 20 : 6;
    if (stream) o.balanced = o.balanced_sampling = false;
    if (r->o.epochs > 0) o.epochs = r->o.epochs;
    if (r->o.batch_size > 0) o.batch_size = r->o.batch_size;
    if (r->o.learning_rate > 0) o.optimizer.learning_rate = r->o.learning_rate;
    ft__recipe_unit(r, &o);
    return o;
}

/* The rate of the whole network, or of its adapters. For a class of each word a higher one is
   better: minilm_l3, 384 wide, got an entity F1 of 40.0 % on WNUT 17's dev set in 5 epochs at 2e-4,
   and 37.7 % in 6 at 5e-5. The wider the network, the lower it is. A class of each
   text, of thousands: minilm_l3 on sst2's 6,920 got 84.5 % of dev at 2e-4, all layers at once, and
   83.7 at 1e-4 after the head (one seed); networks as wide as BERT, 768, keep its 5e-5. */
static float ft__transformer_rate(const ft__recipe *r)
{
    const ft__node *head = ft__head(r->m);
    int width = head && head->input_count > 1
        ? r->m->nodes[head->inputs[1] - 1].shape.size[1] : 0;
    float narrow = width <= 384 ? 2 : width >= 768 ? 1 : 768 / (float)width;
    if (ft__has_adapters(r->m)) return 1e-3f;
    if (r->task == FT_TASK_TOKENS && width > 0) return 2e-4f * 384 / (float)width;
    return r->task == FT_TASK_CLASSIFICATION && width > 0 && ft_data_count(r->data) >= 1000
        ? 5e-5f * narrow * narrow : 5e-5f;
}

/* Of the stage that trains the whole network, or its adapters. */
static ft_fit_options ft__transformer_options(const ft__recipe *r)
{
    int samples = ft_data_count(r->data);
    bool writes = r->task == FT_TASK_LANGUAGE_MODEL, words = r->task == FT_TASK_TOKENS;
    ft_fit_options o = ft__text_options(r, true, writes && r->data->source.streams > 0);
    o.schedule = FT_LINEAR;
    if (r->o.epochs == 0) o.epochs = samples < 1000 && !writes ? 20 : words ? 5 : 3;
    if (r->o.learning_rate == 0) o.optimizer.learning_rate = ft__transformer_rate(r);
    o.warmup_epochs = ft__warm_up(r, &o);
    return o;
}

/* Whether the head is trained first, on the vectors of frozen layers: of a network without adapters
   that gives each text a class. */
static bool ft__tries_head(const ft__recipe *r)
{
    const ft_model *m = r->m;
    return !ft__has_adapters(m) && ft__classifies_samples(m) && ft_class_count(m) > 1
        && ft__labels_of(m);
}

static void ft__recipe_transformer(ft__recipe *r)
{
    ft_model *m = r->m;
    bool adapters = ft__has_adapters(m);
    ft__decay_matrices(m);
    r->all = ft__transformer_options(r);
    r->enough = 0.98; /* deeper layers of a transformer add more than those of a CNN */
    if (r->o.freeze) ft__recipe_frozen(r, r->all);
    else if (r->o.head_only) ft__recipe_head_only(r);
    else if (ft__tries_head(r)) ft__recipe_stages(r);
    else {
        if (adapters) {
            ft__freeze_to_adapters(m);
            ft__store_frozen(m, r->o.frozen_type);
        } else ft__set_frozen(m, "*", false);
        snprintf(r->result.choice, sizeof r->result.choice, "%s, with a learning rate that rises,"
                 " then falls to 0", !adapters ? "all layers at once" : r->task
                 == FT_TASK_LANGUAGE_MODEL ? "the adapters" : "the adapters and the head");
        ft__recipe_say(r, &r->all);
        ft__recipe_fit(r, r->all, true, NULL);
    }
    ft__cache_release(&m->context, &r->features.cache);
}

static const char *ft__thaw_name(int open, int layers)
{
    return ft__thaw_names[open < layers && open < FT__MOST_LAYERS ? open - 1 : FT__MOST_LAYERS - 1];
}

/* The number of unfrozen layers in the stage that a checkpoint names; 1 without a checkpoint. */
static int ft__thaw_resume(ft__recipe *r, int layers)
{
    char stage[32];
    int open;
    if (!r->o.checkpoint || !ft__checkpoint_peek(r->m, r->o.checkpoint, stage, sizeof stage,
                                                 r->result.choice, sizeof r->result.choice))
        return 1;
    for (open = 1; open < layers; ++open)
        if (!strcmp(stage, ft__thaw_name(open, layers))) return open;
    return layers;
}

/* Trains the head, then one layer more in each short stage, then all. */
static void ft__recipe_thaw(ft__recipe *r, const int *layer, int layers)
{
    ft_model *m = r->m;
    int first = ft__thaw_resume(r, layers), open, i;
    bool own_factors = ft__has_own_rates(m);
    ft_fit_options last = ft__text_options(r, true, false);
    snprintf(r->result.choice, sizeof r->result.choice, "unfrozen layer by layer from the head down"
             " (%d layers), each with a learning rate 2.6 times smaller", layers);
    ft__recipe_say(r, &last);
    for (open = first; open <= layers && ft__ok(&m->context); ++open) {
        ft_fit_options o = ft__text_options(r, true, false);
        int steps = (ft_data_count(r->data) + o.batch_size - 1) / o.batch_size;
        o.stage = ft__thaw_name(open, layers);
        if (open < layers) o.epochs = 1 + 60 / (steps > 0 ? steps : 1);
        ft__thaw(m, layer, layers, open, own_factors);
        ft__store_frozen(m, r->o.frozen_type);
        ft__recipe_fit(r, o, open == first, NULL);
        if (r->result.fit.stopped) break;
    }
    for (i = 0; i < m->node_count && !own_factors; ++i) m->nodes[i].learning_rate_factor = 1;
}

/* Text vectors from pairs (graph/pair_loss): the whole network, or its adapters, at the rate of
   sentence-transformers' examples. Without numbers large batches are better, since each pair is
   compared with all others of its batch. */
static void ft__recipe_embeddings(ft__recipe *r)
{
    ft_model *m = r->m;
    ft_pair_loss_options how;
    ft_fit_options o = ft__text_options(r, true, false);
    int samples = ft_data_count(r->data), i;
    bool adapters = ft__has_adapters(m);
    const char *texts[2];
    double score;
    memset(&how, 0, sizeof how);
    how.scored = ft__has_pairs(r->data)
        && r->data->features.pair(r->data->source.user, 0, texts, &score);
    if (samples < 2)
        ft__fail(&m->context, FT_INVALID, "ft_finetune: %d pairs: at least 2 are needed", samples);
    if (adapters) ft__freeze_to_adapters(m); /* dropout too; the second copy is frozen alike */
    if (!ft__ok(&m->context) || ft_pair_loss(m, how) != FT_OK) return;
    ft__decay_matrices(m);
    o.schedule = FT_LINEAR;
    if (r->o.epochs == 0) o.epochs = samples < 10000 ? 3 : 1;
    if (r->o.batch_size == 0) o.batch_size = how.scored ? 16 : 64;
    if (r->o.learning_rate == 0) o.optimizer.learning_rate = adapters ? 5e-4f : 2e-5f;
    o.warmup_epochs = ft__warm_up(r, &o);
    if (r->o.freeze) ft__recipe_frozen(r, o);
    else {
        if (!adapters) ft__set_frozen(m, "*", false);
        for (i = 0; adapters && i < m->node_count; ++i) /* of a network without a head */
            if (ft__is_weight(&m->nodes[i]) && !ft__glob(ft__lora_parameters, m->nodes[i].name))
                m->nodes[i].frozen = true;
        m->version += 1;
        if (adapters) ft__store_frozen(m, r->o.frozen_type);
        snprintf(r->result.choice, sizeof r->result.choice, "%s, so that %s",
                 adapters ? "the adapters" : "all layers at once",
                 how.scored ? "the cosines of the pairs' vectors follow their numbers"
                            : "the vectors of the two texts of each pair are near");
        ft__recipe_say(r, &o);
        ft__recipe_fit(r, o, true, NULL);
    }
    if (ft__ok(&m->context)) ft_cut(m, m->text_vector); /* without the second copy */
}

/* Were the layers below the head trained before, here or by the file's author? */
static bool ft__is_pretrained(const ft_model *m, const int *layer, int layers)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_parameter(&m->nodes[i]) && layer[i] < layers - 1 && m->nodes[i].loaded)
            return true;
    return false;
}

/* What a classifier with random weights must beat, on as much held back as the run itself has, then
   the same texts. */
static void ft__recipe_bag(const ft__recipe *r)
{
    const ft_model *m = r->m;
    int i, words = 0;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is(&m->nodes[i], FT__LOOKS_UP))
            words = m->nodes[m->nodes[i].inputs[1] - 1].shape.size[0];
    ft__bag_say(r->data, words, r->o.hold_back > 0 ? r->o.hold_back : 0.2f);
}

/* The weights that a bag of words has learnt become those of the network. */
static void ft__bag_set(ft_model *m, const ft__bag_learnt *learnt)
{
    const ft__node *head = ft__head(m);
    ft_node named = ft__find_node(m, "idf");
    ft__node *idf = named.id ? &m->nodes[named.id - 1] : NULL, *of_weight, *of_bias;
    size_t words = (size_t)ft__bag_counts(m)->options.token_counts.words, rows, first, i;
    size_t outputs = (size_t)learnt->outputs;
    float *weight, *bias;
    of_weight = head && head->input_count == 3 ? &m->nodes[head->inputs[1] - 1] : NULL;
    of_bias = of_weight ? &m->nodes[head->inputs[2] - 1] : NULL;
    if (!of_bias || !idf || !ft__is_weight(idf) || ft__node_count_at(idf, ft__one) != words
        || (size_t)of_weight->shape.size[1] != words) {
        ft__fail(&m->context, FT_INVALID, "ft_finetune: a bag of words needs idf [words] and a"
                 " linear layer [classes, words] with a bias, as that of ft_network has");
        return;
    }
    ft__host_takes_weights(&m->context, true);
    if (ft__own_float32(m, idf, true) != FT_OK || ft__own_float32(m, of_weight, true) != FT_OK
        || ft__own_float32(m, of_bias, true) != FT_OK) return;
    weight = of_weight->value;
    bias = of_bias->value;
    rows = ft__node_count_at(of_bias, ft__one);
    first = rows - outputs; /* of two classes the first has logit 0 */
    for (i = 0; i < words; ++i) idf->value[i] = (float)learnt->idf[i];
    for (i = 0; i < rows * words; ++i)
        weight[i] = i < first * words ? 0 : (float)learnt->w[i - first * words];
    for (i = 0; i < rows; ++i)
        bias[i] = i < first ? 0 : (float)learnt->w[outputs * words + i - first];
    m->weights_version += 1;
}

/* A network that is a bag of words: no steps, but the best weights at once. */
static void ft__recipe_bag_network(ft__recipe *r)
{
    static const char steps[] = "a network that learns step by step, not a bag of words";
    ft_model *m = r->m;
    const ft_finetune_options *o = &r->o;
    const ft__field_use uses[] = {
        {"epochs", o->epochs > 0, false, steps},
        {"learning_rate", o->learning_rate > 0, false, steps},
        {"freeze", o->freeze != NULL, false, steps}, {"head_only", o->head_only, false, steps},
        {"loss", o->loss != NULL, false, steps}, {"teacher", o->teacher != NULL, false, steps},
        {"optimizer", o->optimizer != NULL, false, steps},
        {"schedule", o->schedule != NULL, false, steps},
        {"balanced", o->balanced || o->balanced_sampling, false, steps},
        {"find_rate", o->find_rate, false, steps}, {"patience", o->patience > 0, false, steps},
        {"most_steps", o->most_steps > 0, false, steps},
        {"accumulate", o->accumulate > 0, false, steps}, {"swa", o->swa, false, steps},
        {"ema", o->ema > 0, false, steps}, {"metric", o->metric != FT_METRIC_AUTO, false, steps},
        {"frozen_type", o->frozen_type != FT_F32, false, steps}};
    int count = ft_data_count(r->data), trained, held_count;
    int *held = (int *)ft__allocate(&m->context, (size_t)count, sizeof *held);
    int *train = (int *)ft__allocate(&m->context, (size_t)count, sizeof *train);
    ft__bag_learnt learnt;
    ft__score score;
    memset(&learnt, 0, sizeof learnt);
    ft__set_frozen(m, "*", false); /* all is fitted */
    ft__recipe_no_steps(r);
    trained = ft__recipe_parts(r, o->hold_back, train, held, &held_count);
    snprintf(r->result.choice, sizeof r->result.choice, "a bag of words: logistic regression on the"
             " TF-IDF of %d words", ft__bag_counts(m)->options.token_counts.words);
    if (ft__check_uses(&m->context, "ft_finetune", uses, sizeof uses / sizeof uses[0]) == FT_OK
        && ft__refuse_training(m) == FT_OK)
        learnt = ft__bag_learn(r->data, ft__bag_counts(m)->options.token_counts.words, o->hold_back,
                               1);
    if (ft__ok(&m->context) && !learnt.w)
        ft__fail(&m->context, FT_UNSUPPORTED, "ft_finetune: too many texts, words and classes for a"
                 " bag of words");
    if (ft__ok(&m->context)) {
        ft__log(&m->context, "%s", r->result.choice);
        ft__bag_set(m, &learnt);
    }
    if (ft__ok(&m->context)) {
        score = ft__score_samples(m, r->data, train, trained, 0);
        r->result.fit.accuracy = ft__accuracy(m, &score);
        r->result.fit.loss = score.total > 0 ? score.loss / (double)score.total : 0;
        ft__recipe_score_held(r, held, held_count);
        r->result.fit.after = ft__digest(m);
    }
    ft__bag_forget(&m->context, &learnt);
    ft__release(&m->context, train);
    ft__release(&m->context, held);
}

static void ft__recipe_text(ft__recipe *r)
{
    ft_model *m = r->m;
    bool stream = r->task == FT_TASK_LANGUAGE_MODEL;
    int *layer, layers;
    if (!FT__HAS(m, TEXT)) return;
    layer = (int *)ft__allocate(&m->context, (size_t)m->node_count, sizeof *layer);
    if (!layer) return;
    layers = ft__text_layers(m, layer);
    if (ft__bag_counts(m) && r->task == FT_TASK_CLASSIFICATION) ft__recipe_bag_network(r);
    else if (stream ? ft__is_transformer(m) : !ft__is_recurrent(m)) ft__recipe_transformer(r);
    else if (r->o.freeze) ft__recipe_frozen(r, ft__text_options(r, true, stream));
    else if (r->o.head_only) ft__recipe_head_only(r);
    else if (!stream && ft__is_pretrained(m, layer, layers)) ft__recipe_thaw(r, layer, layers);
    else {
        const ft__field_use use = {"frozen_type", r->o.frozen_type != FT_F32, false,
                                   "a network that has frozen layers; this one is trained whole"};
        ft_fit_options o = ft__text_options(r, false, stream);
        ft__check_uses(&m->context, "ft_finetune", &use, 1);
        if (r->task == FT_TASK_CLASSIFICATION && ft__ok(&m->context)) ft__recipe_bag(r);
        ft__set_frozen(m, "*", false);
        snprintf(r->result.choice, sizeof r->result.choice, "all layers at once: %s",
                 stream ? "a language model" : "they start from random weights");
        ft__recipe_say(r, &o);
        ft__recipe_fit(r, o, true, NULL);
    }
    ft__release(&m->context, layer);
}

static const char ft__more_than_means[] = "training, not class_means of head_only";

static ft_status ft__recipe_check(ft_model *m, const ft_data *data, const ft_finetune_options *o)
{
    const ft_augmentation *a = &o->augmentation, *own = ft__data_augmentation(data);
    const ft__field_use uses[] = {
        {"augmentation", a->shift < 0 || ft__augments(a),
         own && !ft__augments(own),
         "an image folder without its own augmentation"},
        {"checkpoint_steps", o->checkpoint_steps > 0, o->checkpoint != NULL, "checkpoint"},
        {"augmentation", a->shift < 0 || ft__augments(a), !o->head_only,
         "training of more than the head (without head_only)"},
        {"mixup", o->mixup != 0, own && !o->head_only,
         "training of more than the head, of pictures"},
        {"cutmix", o->cutmix != 0, own && !o->head_only,
         "training of more than the head, of pictures"},
        {"head_only", o->head_only, !o->freeze && !ft__has_adapters(m),
         "training without freeze, of a network without adapters"},
        {"patience", o->patience > 0, o->hold_back > 0, "hold_back"},
        {"metric", o->metric != FT_METRIC_AUTO, o->hold_back > 0, "hold_back"},
        {"learning_rate", o->learning_rate != 0, !o->find_rate, "a run without find_rate"},
        {"curve", o->curve != NULL, o->find_rate, "a run with find_rate"},
        {"class_means", o->class_means, own && !o->freeze, "pictures, without freeze"},
        {"epochs", o->epochs > 0, !o->class_means || !o->head_only, ft__more_than_means},
        {"learning_rate", o->learning_rate > 0, !o->class_means || !o->head_only,
         ft__more_than_means},
        {"find_flip", o->find_flip, own && !ft__augments(own) && !a->flip && !o->head_only
         && !o->freeze, "pictures without their own augmentation or flip, where more than the head"
         " may be trained"},
        {"last_block", o->last_block, own && !o->head_only && !o->freeze && !ft__has_adapters(m),
         "pictures, where more than the head may be trained, without adapters"},
        {"average_start", o->average_start, own && !o->head_only && !o->freeze && o->hold_back > 0,
         "pictures, where more than the head may be trained, with hold_back"}};
    if (ft__mixing_shares(&m->context, "ft_finetune", o->mixup, o->cutmix) != FT_OK
        || ft__recipe_check_name(&m->context, "optimizer", o->optimizer, ft__optimizer_name)
        || ft__recipe_check_name(&m->context, "schedule", o->schedule, ft__schedule_name))
        return m->context.status;
    return ft__check_uses(&m->context, "ft_finetune", uses, sizeof uses / sizeof uses[0]);
}

/* A loss or a teacher needs classes or numbers. */
static void ft__check_loss_of(const ft__recipe *r)
{
    ft__context *c = &r->m->context;
    if (r->o.loss && r->o.teacher)
        ft__fail(c, FT_INVALID, "ft_finetune: loss has no effect with a teacher");
    else if ((r->o.loss || r->o.teacher)
             && (r->task == FT_TASK_EMBEDDINGS || r->task == FT_TASK_LANGUAGE_MODEL))
        ft__fail(c, FT_INVALID, "ft_finetune: loss has no effect here: it is for classes and"
                 " numbers; the task is %s", ft_task_name(r->task));
    else if (r->o.loss && strcmp(r->o.loss, "ctc") == 0 && r->task == FT_TASK_TOKENS)
        ft__fail(c, FT_INVALID, "ft_finetune: ctc is a loss of labels without steps, and one class"
                 " is the blank; here each word has its label");
}

static void ft__set_loss_of(const ft__recipe *r)
{
    if (r->o.loss) ft_set_loss_kind(r->m, r->o.loss, r->o.loss_options);
    if (r->o.teacher) ft_set_teacher(r->m, r->o.teacher, r->o.loss_options);
}

/* `lent`: to the stage of options.freeze; or NULL. */
static ft_finetune_result ft__finetune(ft_model *m, ft_data *data, ft_finetune_options options,
                                       ft__lent *lent)
{
    ft__recipe r;
    memset(&r, 0, sizeof r);
    r.m = m;
    r.data = data;
    r.o = options;
    r.lent = lent;
    if (!ft__usable(m) || !ft__given(&m->context, data, "ft_finetune: the data")
        || ft__recipe_check(m, data, &options) != FT_OK) return r.result;
    if (options.epochs < 0)
        ft__fail(&m->context, FT_INVALID, "ft_finetune: epochs is %d; it must not be negative",
                 options.epochs);
    if (options.batch_size < 0)
        ft__fail(&m->context, FT_INVALID, "ft_finetune: batch_size is %d; it must not be negative",
                 options.batch_size);
    if (options.most_steps < 0)
        ft__fail(&m->context, FT_INVALID, "ft_finetune: most_steps is %d; it must not be negative",
                 options.most_steps);
    if (!ft__not_negative(options.learning_rate))
        ft__fail(&m->context, FT_INVALID, "ft_finetune: learning_rate is %g; it must be finite and"
                 " not negative", (double)options.learning_rate);
    ft__check_type(m, "ft_finetune: frozen_type", options.frozen_type);
    if (!ft__ok(&m->context)) return r.result;
    r.task = ft__task_on(&m->context, "ft_finetune", data, options.task);
    if (!ft__ok(&m->context)) return r.result;
    if (options.head_only && (r.task == FT_TASK_EMBEDDINGS || r.task == FT_TASK_LANGUAGE_MODEL))
        ft__fail(&m->context, FT_INVALID, "ft_finetune: head_only has no effect here: it is for a"
                 " class or a number; the task is %s", ft_task_name(r.task));
    if (!ft__ok(&m->context)) return r.result;
    ft__check_loss_of(&r);
    if (!ft__ok(&m->context)) return r.result;
    if (r.task == FT_TASK_EMBEDDINGS) {
        ft__recipe_embeddings(&r);
        return r.result;
    }
    if (ft_data_classes(data) < 2 && r.task != FT_TASK_LANGUAGE_MODEL
        && r.task != FT_TASK_REGRESSION) {
        ft__fail(&m->context, FT_INVALID, "the data has %d classes: at least 2 are needed",
                 ft_data_classes(data));
        return r.result;
    }
    if (r.task == FT_TASK_CLASSIFICATION) ft__add_text_head(m, ft_data_classes(data));
    if (ft__ready(m, true) != FT_OK) return r.result;
    if (r.task == FT_TASK_LANGUAGE_MODEL)
        ft__check_predicts_tokens(m, "ft_finetune", "the task is");
    else ft__recipe_head(&r);
    ft__set_loss_of(&r);
    if (!ft__ok(&m->context)) return r.result;
    if (data->source.length) {
        ft__recipe_text(&r);
        return r.result;
    }
    ft__recipe_augmentation(data, options.augmentation);
    r.all = ft__recipe_options(&r, FT__ALL);
    r.enough = 0.9;
    if (options.freeze) ft__recipe_frozen(&r, r.all);
    else if (options.head_only) ft__recipe_head_only(&r);
    else ft__recipe_stages(&r);
    ft__cache_release(&m->context, &r.features.cache);
    return r.result;
}
