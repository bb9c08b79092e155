#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "nodes/nodes.h"
#include "graph/settings.h"
#include "text/tokenizers.h"
#include "text/words.h"
#include "training/entities.h"
#include "training/evaluate.h"
#include "training/generate.h"

/* =============================================================================================
   [SECTION] training/predict_words: Predict the classes of words, and entities
   ============================================================================================= */
static bool ft__can_predict_words(ft_model *m, const char *call)
{
    if (!ft__usable(m)) return false;
    if (!ft__classifies_steps(m) || !m->tokenizer)
        ft__fail(&m->context, FT_INVALID, "%s: needs a model that gives a class to each token, with"
                 " class names, and a tokeniser", call);
    return ft__ok(&m->context);
}

/* Predicts words that fit into one run: the class of each at its first piece. Returns how many were
   left. */
static size_t ft__predict_run(ft_model *m, const char *text, ft__word *words, size_t count,
                              ft_prediction *best, const char *call)
{
    ft__ids ids;
    const float *logits = NULL;
    size_t cut, i;
    memset(&ids, 0, sizeof ids);
    ids.context = &m->context;
    cut = ft__encode_words(m->tokenizer, text, words, count, ft_max_length(m), &ids);
    if (ft__ok(&m->context)) logits = ft__run_tokens(m, ids.values, NULL, (int)ids.count, call);
    for (i = 0; logits && i < count - cut; ++i)
        if (words[i].place >= 0)
            ft__best_classes(m, logits + (size_t)words[i].place * (size_t)m->class_count, &best[i],
                             1);
    ft__release(&m->context, ids.values);
    return cut;
}

/* Predicts the classes of a text's words, in parts of at most ft_max_length tokens; -1 of a word
   without pieces. Returns how many have a class; 0 with an error. */
static int ft__predict_classes(ft_model *m, const char *text, ft__word *words, size_t count,
                               ft_prediction *best, const char *call)
{
    size_t from = 0, left, i;
    int found = 0;
    for (i = 0; i < count; ++i) {
        best[i].class_index = -1;
        best[i].probability = 0;
    }
    while (from < count && ft__ok(&m->context)) {
        left = ft__predict_run(m, text, words + from, count - from, best + from, call);
        if (from == count - left) break; /* no room for a single word */
        from = count - left;
    }
    for (i = 0; i < count; ++i) found += best[i].class_index >= 0;
    return ft__ok(&m->context) ? found : 0;
}

static int ft__predict_words(ft_model *m, const char *const *words, int count, ft_prediction *best)
{
    const char *call = "ft_predict_words";
    ft__context *c;
    ft__growing list = {NULL, 0, 0, sizeof(ft__word)};
    ft__text text;
    int i, found = 0;
    if (!ft__can_predict_words(m, call)) return 0;
    c = &m->context;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!words || !best || count < 1)
        ft__fail(c, FT_INVALID, "%s: words is %s, best is %s and count is %d: at least 1 word is"
                 " needed, and room for its class", call, words ? "given" : "NULL",
                 best ? "given" : "NULL", count);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        if (!ft__given(c, words[i], "ft_predict_words: each word")) break;
        ft__word_add(c, &list, text.count, strlen(words[i]), -1);
        ft__text_add_bytes(&text, words[i], strlen(words[i]));
    }
    if (ft__ok(c))
        found = ft__predict_classes(m, text.letters, (ft__word *)list.at, list.count, best, call);
    ft__release(c, text.letters);
    ft__release(c, list.at);
    return found;
}

/* Writes up to `most` of the entities of words whose classes were predicted; returns how many there
   are. */
static int ft__find_entities(const ft_model *m, const ft__tag *tags, const ft__word *words,
                             const ft_prediction *best, size_t count, ft_entity *entities, int most)
{
    ft__chunk open = {-1, 0}, ended;
    int found = 0, i, k;
    for (i = 0; i <= (int)count; ++i) {
        bool known = i < (int)count && best[i].class_index >= 0;
        ft__tag tag = known ? tags[best[i].class_index] : ft__outside;
        ft_entity entity;
        if (!ft__chunk_step(&open, tag, i, &ended)) continue;
        memset(&entity, 0, sizeof entity);
        entity.start = words[ended.start].start;
        entity.bytes = words[i - 1].start + words[i - 1].bytes - entity.start;
        entity.type = m->class_names[ended.type] + 2;
        for (k = ended.start; k < i; ++k)
            entity.probability += best[k].probability / (float)(i - ended.start);
        if (found < most) entities[found] = entity;
        found += 1;
    }
    return found;
}

static int ft__predict_entities(ft_model *m, const char *text, size_t bytes, ft_entity *entities,
                                int most)
{
    const char *call = "ft_predict_entities";
    ft__context *c;
    ft__growing words = {NULL, 0, 0, sizeof(ft__word)};
    ft__tag *tags;
    ft_prediction *best = NULL;
    int found = 0;
    if (!ft__can_predict_words(m, call)) return 0;
    c = &m->context;
    if (!ft__given(c, text, "ft_predict_entities: the text")) return 0;
    if (most < 0 || (most > 0 && !entities))
        ft__fail(c, FT_INVALID, "%s: entities is %s and most is %d: there must be room for most",
                 call, entities ? "given" : "NULL", most);
    if (bytes > INT_MAX / 4)
        ft__fail(c, FT_INVALID, "%s: a text of %zu bytes is too long", call, bytes);
    tags = ft__ok(c) ? ft__model_tags(m) : NULL;
    if (!tags && ft__ok(c))
        ft__fail(c, FT_INVALID, "%s: the model's classes must be O, B-TYPE and I-TYPE, but one is"
                 " '%s': use ft_predict_words", call, m->class_names[0]);
    if (ft__ok(c)) ft__find_words(c, text, bytes, &words);
    if (ft__ok(c)) best = (ft_prediction *)ft__allocate(c, words.count + 1, sizeof *best);
    if (best) {
        ft__predict_classes(m, text, (ft__word *)words.at, words.count, best, call);
        if (ft__ok(c))
            found = ft__find_entities(m, tags, (const ft__word *)words.at, best, words.count,
                                      entities, most);
    }
    ft__release(c, best);
    ft__release(c, words.at);
    ft__release(c, tags);
    return found;
}
