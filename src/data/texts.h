#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "basics/folders.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "operators/table.h"
#include "graph/plan.h"
#include "graph/settings.h"
#include "text/tokenizers.h"
#include "text/tokenizing.h"
#include "text/sequences.h"
#include "text/words.h"
#include "networks/encoders.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/tables.h"
#include "data/conll.h"
#include "data/text_pairs.h"

/* =============================================================================================
   [SECTION] data/texts: Texts
   Labelled texts, from a table (TSV, CSV, JSON lines) or from PATH/CLASS/files, or sentences with a
   class for each word, from a CoNLL file. They are read and converted to tokens when they are
   opened; get() only copies. It fills "tokens" [L], padded with zeros, "lengths" [], and "labels"
   [] or [L]: the next tokens, or the words' classes at their first pieces, padded with -1.
   ============================================================================================= */
typedef struct ft__texts {
    ft__context *context;
    ft__text letters;       /* all texts, a 0 after each */
    size_t *start;          /* [count]: in letters */
    size_t *second;         /* [count]: of pairs: where the second text begins, behind a tab */
    bool pairs;
    int *labels;            /* [count] */
    float *numbers;         /* [count]: of a regression, instead of labels; else NULL */
    int count, capacity;
    ft__vocabulary classes;
    ft__tokenized tokens;   /* of all texts */
    ft__ids types;          /* of pairs: theirs */
    int longest;            /* tokens of the longest text */
    int end;                /* the label of a text's last token; -1: none */
    bool shuffle;           /* of views other than 0 */
    float *keep;            /* [pieces]: the share that such a view keeps; NULL: all */
    uint64_t seed;
    ft__text note;          /* of a table: the columns that were chosen */
    int not_utf8;           /* files (one text each) that contain invalid UTF-8 */
    ft__growing words;      /* ft__words of all sentences; tags are classes */
    ft__growing ends;       /* [count] of size_t: the words up to the end of each sentence; empty:
                               these are no sentences with tags */
} ft__texts;

static bool ft__has_tags(const ft__texts *t) { return t->ends.count > 0; }

/* The words of a sentence, and how many. */
static ft__word *ft__sentence(const ft__texts *t, int index, size_t *count)
{
    const size_t *ends = (const size_t *)t->ends.at;
    size_t first = index > 0 ? ends[index - 1] : 0;
    *count = ends[index] - first;
    return (ft__word *)t->words.at + first;
}

static const char *ft__one_text(const ft__texts *t, int index)
{
    return t->letters.letters + t->start[index];
}

static const char *ft__second_text(const ft__texts *t, int index) /* of pairs */
{
    return t->letters.letters + t->second[index];
}

/* The bytes of a text or, of a pair, of the first one. */
static size_t ft__first_bytes(const ft__texts *t, int index)
{
    return t->pairs ? t->second[index] - 1 - t->start[index] : strlen(ft__one_text(t, index));
}

/* Makes room for one more text, or pair. */
static void ft__texts_grow(ft__texts *t, bool pair)
{
    ft__context *c = t->context;
    if (t->count == t->capacity) {
        int capacity = t->capacity < INT_MAX / 4 ? 2 * t->capacity + 256 : INT_MAX;
        size_t *start = (size_t *)ft__grow(c, t->start, (size_t)t->count, (size_t)capacity,
                                           sizeof *start);
        int *labels = (int *)ft__grow(c, t->labels, (size_t)t->count, (size_t)capacity,
                                      sizeof *labels);
        size_t *second = pair ? (size_t *)ft__grow(c, t->second, (size_t)t->count,
                                                   (size_t)capacity, sizeof *second) : NULL;
        if (start) t->start = start;
        if (second) t->second = second;
        if (labels) t->labels = labels;
        t->capacity = capacity;
    }
}

/* `second`: of a pair; else NULL. */
static void ft__texts_add(ft__texts *t, const char *text, size_t bytes, const char *second,
                          const char *label)
{
    int class_index = *label ? ft__vocabulary_find(&t->classes, label, strlen(label))
                             : t->classes.count > 0 ? 0 : -1; /* no labels: one class */
    ft__texts_grow(t, second != NULL);
    if (class_index < 0) {
        class_index = t->classes.count;
        ft__vocabulary_add(&t->classes, label, strlen(label));
    }
    if (!ft__ok(t->context)) return;
    t->start[t->count] = t->letters.count;
    t->labels[t->count] = class_index;
    ft__text_add_bytes(&t->letters, text, bytes);
    if (second) {
        ft__text_add_bytes(&t->letters, "\t", 1);
        t->second[t->count] = t->letters.count;
        ft__text_add_bytes(&t->letters, second, strlen(second));
        t->pairs = true;
    }
    ft__text_add_bytes(&t->letters, "", 1);
    t->count += 1;
}

/* Adds a table's records. */
static void ft__read_table(ft__texts *t, const char *path, const char *content, size_t bytes,
                           const ft_text_options *o)
{
    const char *text, *label;
    ft__table table;
    if (ft__table_open(&table, t->context, path, content, bytes, o)) {
        while (ft__table_next(&table, &text, &label))
            ft__texts_add(t, text, strlen(text), table.second, label);
        if (table.note.letters)
            ft__text_add_bytes(&t->note, table.note.letters, table.note.count);
    }
    ft__table_close(&table);
}

/* Adds a whole file as one text. */
static void ft__read_text(ft__texts *t, const char *path, const char *content, size_t bytes,
                          const char *label)
{
    char *owned;
    if (!ft__as_utf8(t->context, path, &content, &bytes, &owned)) return;
    if (!ft__utf8_valid(content, bytes)) t->not_utf8 += 1;
    ft__texts_add(t, content, bytes, NULL, label);
    ft__release(t->context, owned);
}

/* ---- Sentences with tags ---- */

/* Whether a file, or the memory, is read as sentences with tags: the caller says so, or the path's
   end, or the content. */
static bool ft__is_conll(const char *path, const char *content, size_t bytes,
                         const ft_text_options *o)
{
    if (o->format) return strcmp(o->format, "conll") == 0;
    if (o->task != FT_TASK_AUTO) return o->task == FT_TASK_TOKENS;
    if (ft__ends_with(path, ".conll") || ft__ends_with(path, ".bio")
        || ft__ends_with(path, ".iob")) return true;
    return !ft__ends_with(path, ".csv") && !ft__ends_with(path, ".jsonl")
        && ft__looks_like_conll(content, bytes);
}

static void ft__read_conll(ft__texts *t, const char *path, const char *content, size_t bytes,
                           const ft_text_options *o)
{
    ft__context *c = t->context;
    ft__conll r;
    size_t i, *end;
    if (ft__conll_open(&r, c, path, content, bytes, &t->classes)) {
        r.pairs = !o->match_classes && !o->classes_of;
        while (ft__conll_next(&r)) {
            ft__texts_grow(t, false);
            for (i = 0; i < r.words.count && ft__ok(c); ++i) {
                ft__word *word = (ft__word *)ft__growing_add(c, &t->words);
                if (word) *word = ((const ft__word *)r.words.at)[i];
            }
            end = (size_t *)ft__growing_add(c, &t->ends);
            if (!end || !ft__ok(c)) break;
            *end = t->words.count;
            t->start[t->count++] = t->letters.count;
            ft__text_add_bytes(&t->letters, r.text.letters, r.text.count);
        }
        if (ft__ok(c) && r.changed)
            ft__log(c, "%s: %d tags at the start of an entity are I- (IOB1) and are read as B-",
                    path, r.changed);
    }
    ft__conll_close(&r);
}

static void ft__read_content(ft__texts *t, const char *path, const char *content, size_t bytes,
                             const ft_text_options *o)
{
    if (ft__is_conll(path, content, bytes, o)) ft__read_conll(t, path, content, bytes, o);
    else ft__read_table(t, path, content, bytes, o);
}

/* ---- Class folders ---- */

/* Every file of a class is read, unless it is hidden: then this decides whether that is said. */
static bool ft__is_text_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot > name && (!strcmp(dot, ".txt") || !strcmp(dot, ".TXT"));
}

static void ft__read_class_files(ft__texts *t, const char *path, const char *label)
{
    ft__context *c = t->context;
    ft__left_out inner = {0, NULL};
    ft__listing listing;
    int before = t->count, i;
    if (ft__listing_read(c, &listing, path, ft__is_text_file))
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            char *file = entry->is_folder ? NULL : ft__join_path(c, path, entry->name);
            size_t bytes = 0;
            unsigned char *content = file ? ft__read_file(c, file, &bytes) : NULL;
            if (content) ft__read_text(t, file, (const char *)content, bytes, label);
            ft__release(c, content);
            ft__release(c, file);
            if (entry->is_folder) ft__count_left_out(&inner, entry->name);
        }
    if (ft__ok(c) && t->count == before)
        ft__fail(c, FT_IO, "%s: this class has no texts%s%s%s", path,
                 inner.count ? "; it contains the folder " : "", inner.count ? inner.first : "",
                 inner.count ? ": are the classes in there?" : "");
    ft__log_left_out(c, path, &inner, "folder inside this class, with its texts",
                     "folders inside this class, with their texts");
    ft__listing_free(&listing);
}

static void ft__read_text_folder(ft__texts *t, const char *path)
{
    ft__context *c = t->context;
    ft__left_out loose = {0, NULL};
    ft__listing listing;
    int i;
    if (ft__listing_read(c, &listing, path, ft__is_text_file))
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            char *inner = entry->is_folder ? ft__join_path(c, path, entry->name) : NULL;
            char *label = inner ? ft__copy_name(c, entry->name) : NULL;
            if (label) ft__read_class_files(t, inner, label);
            if (label && strcmp(label, entry->name) != 0)
                ft__log(c, "%s: the name of this folder is not UTF-8; its class is named as printed"
                        " here", inner);
            if (!inner) ft__count_left_out(&loose, entry->name);
            ft__release(c, label);
            ft__release(c, inner);
        }
    ft__log_left_out(c, path, &loose, "file outside the class folders",
                     "files outside the class folders");
    ft__listing_free(&listing);
}

/* ---- Classes ---- */
static bool ft__class_less(const void *context, int a, int b)
{
    const ft__vocabulary *v = (const ft__vocabulary *)context;
    return strcmp(ft__piece_text(v, a), ft__piece_text(v, b)) < 0;
}

/* Changes labels to indices of the classes in the order of their names; to match, to indices of the
   classes of the model or of other data. */
static void ft__sort_classes(ft_model *m, ft__texts *t, const char *path, const ft_text_options *o)
{
    ft__context *c = t->context;
    ft__vocabulary found = t->classes;
    bool match = o->match_classes || o->classes_of;
    int *order = (int *)ft__allocate(c, (size_t)found.count + 1, sizeof *order), *place = NULL, i;
    size_t k;
    char **names, number[12];
    memset(&t->classes, 0, sizeof t->classes);
    t->classes.context = t->classes.letters.context = c;
    if (order) ft__sort_order(order, found.count, ft__class_less, &found);
    names = (char **)ft__allocate(c, (size_t)found.count + 1, sizeof *names);
    for (i = 0; names && i < found.count; ++i) /* as the model will store them */
        names[i] = ft__copy_name(c, ft__piece_text(&found, i));
    if (ft__ok(c) && match)
        place = ft__match_classes(m, o->classes_of, path, (const char *const *)names, found.count);
    else place = (int *)ft__allocate(c, (size_t)found.count + 1, sizeof *place);
    for (i = 0; ft__ok(c) && !match && i < found.count; ++i) {
        place[order[i]] = i;
        ft__vocabulary_add(&t->classes, names[order[i]], strlen(names[order[i]]));
    }
    for (i = 0; match && i < ft__known_classes(m, o->classes_of); ++i) {
        const char *name = ft__known_class(m, o->classes_of, i, number);
        ft__vocabulary_add(&t->classes, name, strlen(name));
    }
    for (i = 0; ft__ok(c) && i < t->count && !ft__has_tags(t); ++i)
        t->labels[i] = place[t->labels[i]];
    for (k = 0; ft__ok(c) && k < t->words.count; ++k) {
        ft__word *word = (ft__word *)t->words.at + k;
        word->tag = place[word->tag];
    }
    ft__release(c, place);
    for (i = 0; names && i < found.count; ++i) ft__release(c, names[i]);
    ft__release(c, names);
    ft__release(c, order);
    ft__vocabulary_release(&found);
}

/* What is learnt: what the options say, or what the model or the training data is for, else what
   the labels show. */
static ft_task ft__texts_task(const ft_model *m, const ft__texts *t, const ft_text_options *o)
{
    const char *fraction;
    if (ft__has_tags(t)) return FT_TASK_TOKENS;
    if (o->task != FT_TASK_AUTO || o->unlabelled) return o->task;
    if (o->match_classes && m->class_count == 0 && ft__predicts_number(m))
        return FT_TASK_REGRESSION;
    if (o->match_classes) return FT_TASK_AUTO;
    if (o->classes_of)
        return ft_data_task(o->classes_of) == FT_TASK_REGRESSION ? FT_TASK_REGRESSION
                                                                 : FT_TASK_AUTO;
    return ft__are_numbers(&t->classes, 0, &fraction) && fraction ? FT_TASK_REGRESSION
                                                                  : FT_TASK_AUTO;
}

/* The labels become numbers, and there are no classes. */
static void ft__labels_to_numbers(ft__texts *t, const char *path)
{
    ft__context *c = t->context;
    float *value = (float *)ft__allocate(c, (size_t)t->classes.count + 1, sizeof *value);
    double number = 0;
    int i;
    t->numbers = (float *)ft__allocate(c, (size_t)t->count + 1, sizeof *t->numbers);
    for (i = 0; ft__ok(c) && i < t->classes.count; ++i) {
        if (!ft__read_number_text(ft__piece_text(&t->classes, i), &number))
            ft__fail(c, FT_FORMAT, "%s: the label \"%.60s\" is not a number: a regression needs"
                     " one for each text", path, ft__piece_text(&t->classes, i));
        value[i] = (float)number;
    }
    for (i = 0; ft__ok(c) && i < t->count; ++i) t->numbers[i] = value[t->labels[i]];
    ft__release(c, value);
    ft__vocabulary_release(&t->classes);
    memset(&t->classes, 0, sizeof t->classes);
    t->classes.context = t->classes.letters.context = c;
}

/* ---- Tokens ---- */

/* Were the rows of words learnt before, for pieces in an order that these texts do not show? */
static bool ft__words_were_loaded(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].op == FT__OP_embedding && m->nodes[m->nodes[i].inputs[1] - 1].loaded)
            return true;
    return false;
}

/* The model's tokeniser; if it has none, one is built from the words of these texts. */
static ft_tokenizer *ft__tokenizer_for(ft_model *m, const ft__texts *t, ft_tokenizer *given,
                                       ft_tokenizer_kind kind, ft_vocabulary_options vocabulary)
{
    const char **texts;
    int i;
    if (given && given->model != m) {
        ft__fail(&m->context, FT_INVALID, "the tokeniser belongs to another model: load it with"
                 " this model");
        return NULL;
    }
    if (given && (vocabulary.minimum_count || vocabulary.most || vocabulary.cased
                  || vocabulary.spaces_only)) {
        ft__fail(&m->context, FT_INVALID, "vocabulary has no effect here: it is for a tokeniser"
                 " that is built from the texts, but tokenizer is set");
        return NULL;
    }
    if (given) return given;
    if (m->tokenizer) return m->tokenizer;
    if (ft__words_were_loaded(m)) {
        ft__fail(&m->context, FT_INVALID, "the loaded weights need the tokeniser that they were"
                 " trained with, not one that is built from these texts: load it with"
                 " ft_tokenizer_load (--vocabulary FILE)");
        return NULL;
    }
    texts = (const char **)ft__allocate(&m->context, (size_t)t->count + 1, sizeof *texts);
    if (!texts) return NULL;
    for (i = 0; i < t->count; ++i) texts[i] = ft__one_text(t, i);
    given = ft_tokenizer_build(m, kind, texts, t->count, vocabulary);
    ft__release(&m->context, (void *)(uintptr_t)texts);
    return given;
}

static void ft__tokenize_texts(ft__texts *t, ft_tokenizer *tokenizer, int longest,
                               const char *path)
{
    ft__context *c = t->context;
    int i, k, cut = 0;
    ft__tokenized_begin(c, &t->tokens, t->count);
    for (i = 0; i < t->count && ft__ok(c); ++i) {
        const char *text = ft__one_text(t, i), *second = t->pairs ? ft__second_text(t, i) : NULL;
        int whole = 0;
        ft_pair_tokens tokens = ft__tokens_of(tokenizer, text, ft__first_bytes(t, i), second,
                                              second ? strlen(second) : 0, longest, &whole);
        cut += whole > longest;
        ft__tokenized_put(&t->tokens, i, tokens);
        for (k = 0; tokens.types && k < tokens.count; ++k) ft__ids_add(&t->types, tokens.types[k]);
        if (tokens.count > t->longest) t->longest = tokens.count;
    }
    if (t->longest < 1) t->longest = 1;
    if (cut && ft__ok(c))
        ft__log(c, "%s: %d of the %s are longer than %d tokens (max_length): their ends are cut"
                " off", path, cut, t->pairs ? "pairs" : "texts", longest);
}

/* The same of sentences, word by word. */
static void ft__tokenize_sentences(ft__texts *t, ft_tokenizer *tokenizer, int longest,
                                   const char *path)
{
    ft__context *c = t->context;
    size_t words, lost = 0, lost_here;
    int i, cut = 0;
    ft__tokenized_begin(c, &t->tokens, t->count);
    for (i = 0; i < t->count && ft__ok(c); ++i) {
        ft__word *sentence = ft__sentence(t, i, &words);
        int length;
        lost_here = ft__encode_words(tokenizer, ft__one_text(t, i), sentence, words, longest,
                                     &t->tokens.ids);
        cut += lost_here > 0;
        lost += lost_here;
        t->tokens.start[i + 1] = t->tokens.ids.count;
        length = ft__tokenized_length(&t->tokens, i);
        if (length > t->longest) t->longest = length;
    }
    if (cut && ft__ok(c))
        ft__log(c, "%s: %d of the sentences are longer than %d tokens (max_length): %zu words are"
                " cut off; an evaluation takes them as O", path, cut, longest, lost);
}

/* The classes of a sentence's words at their first pieces, [room]. */
static void ft__sentence_labels(const ft__texts *t, int index, int32_t *to, int room)
{
    size_t words, i;
    const ft__word *sentence = ft__sentence(t, index, &words);
    int k;
    for (k = 0; k < room; ++k) to[k] = -1;
    for (i = 0; i < words; ++i)
        if (sentence[i].place >= 0) to[sentence[i].place] = sentence[i].tag;
}

/* ---- Views: words left out, or in another order ---- */

/* The share of each piece that is kept (Mikolov et al. 2013): frequent words say least. */
static void ft__subsample(ft__texts *t, int pieces, float share)
{
    float *keep = (float *)ft__allocate(t->context, (size_t)pieces + 1, sizeof *keep);
    const ft__ids *ids = &t->tokens.ids;
    size_t i;
    int piece;
    t->keep = keep;
    if (!keep) return;
    for (i = 0; i < ids->count; ++i) keep[ids->values[i]] += 1;
    for (piece = 0; piece < pieces; ++piece) {
        double most = (double)share * (double)ids->count;
        keep[piece] = keep[piece] > most ? (float)sqrt(most / (double)keep[piece]) : 1;
    }
}

/* Writes a view's tokens to `to`, unless it is NULL; returns how many, at least 1. */
static int ft__texts_view(const ft__texts *t, int index, int view, int32_t *to)
{
    const int32_t *ids = t->tokens.ids.values + t->tokens.start[index];
    int length = ft__tokenized_length(&t->tokens, index), count = 0, i;
    uint64_t key = ft__key(t->seed, (uint64_t)index, (uint64_t)view, FT__USE_AUGMENT);
    for (i = 0; i < length; ++i) {
        bool last_chance = count == 0 && i == length - 1;
        if (view && t->keep && !last_chance && ft__uniform(key, (uint64_t)i) >= t->keep[ids[i]])
            continue;
        if (to) to[count] = ids[i];
        count += 1;
    }
    for (i = count - 1; view && t->shuffle && to && i > 0; --i) { /* Fisher and Yates */
        int j = (int)(ft__random(key, (uint64_t)(length + i)) % (uint64_t)(i + 1));
        int32_t swap = to[i];
        to[i] = to[j];
        to[j] = swap;
    }
    return count;
}

/* The types of a pair's tokens; of a single text they are the zeros that are there. */
static void ft__texts_types(const ft__texts *t, int index, int32_t *to)
{
    size_t count = (size_t)ft__tokenized_length(&t->tokens, index);
    if (t->pairs) memcpy(to, t->types.values + t->tokens.start[index], count * sizeof *to);
}

/* The next tokens of a view, as a language model's labels [room]. */
static void ft__texts_next(const ft__texts *t, int index, int view, int32_t *to, int room)
{
    int count = ft__texts_view(t, index, view, to), i;
    for (i = 0; i < room; ++i) to[i] = i + 1 < count ? to[i + 1] : i + 1 == count ? t->end : -1;
}

/* ---- The source ---- */
static int ft__texts_length(void *user, int index) /* of view 0, the longest */
{
    const ft__texts *t = (const ft__texts *)user;
    return ft__tokenized_length(&t->tokens, index);
}

static bool ft__texts_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__texts *t = (const ft__texts *)user;
    int length = ft__texts_view(t, index, view, NULL), s;
    for (s = 0; s < slot_count; ++s) {
        int32_t *to = (int32_t *)slots[s].values;
        bool tokens = !strcmp(slots[s].name, "tokens"), labels = !strcmp(slots[s].name, "labels");
        bool types = !strcmp(slots[s].name, "types");
        if (t->numbers && !strcmp(slots[s].name, "target") && slots[s].type == FT_F32
            && ft__shape_count(&slots[s].shape) == 1)
            *(float *)slots[s].values = t->numbers[index];
        if (slots[s].type != FT_I32) continue;
        if (slots[s].shape.rank == 0 && !strcmp(slots[s].name, "lengths")) *to = length;
        if (slots[s].shape.rank == 0 && labels) *to = t->labels[index];
        if (slots[s].shape.rank != 1 || (!tokens && !labels && !types)) continue;
        if (slots[s].shape.size[0] < length) return false;
        if (tokens) ft__texts_view(t, index, view, to);
        else if (types) ft__texts_types(t, index, to);
        else if (ft__has_tags(t)) ft__sentence_labels(t, index, to, slots[s].shape.size[0]);
        else ft__texts_next(t, index, view, to, slots[s].shape.size[0]);
        slots[s].length = length;
    }
    return true;
}

static int ft__texts_label(void *user, int index) { return ((ft__texts *)user)->labels[index]; }

static float ft__texts_number(void *user, int index)
{
    return ((ft__texts *)user)->numbers[index];
}

static const char *ft__texts_name(void *user, int index) /* the text itself */
{
    return ft__one_text((const ft__texts *)user, index);
}

static const char *ft__texts_class_name(void *user, int c)
{
    return ft__piece_text(&((const ft__texts *)user)->classes, c);
}

static const ft__word *ft__texts_words(void *user, int index, size_t *count)
{
    return ft__sentence((const ft__texts *)user, index, count);
}

static uint64_t ft__texts_content(ft_model *m, void *user, int index, uint64_t hash)
{
    const ft__texts *t = (const ft__texts *)user;
    const ft__word *sentence;
    size_t words, i;
    (void)m;
    if (t->numbers) return ft__hash_bytes(hash, &t->numbers[index], sizeof *t->numbers);
    sentence = ft__sentence(t, index, &words);
    for (i = 0; i < words; ++i) {
        hash = ft__hash_bytes(hash, &sentence[i].start, sizeof sentence[i].start);
        hash = ft__hash_bytes(hash, &sentence[i].tag, sizeof sentence[i].tag);
    }
    return hash;
}

/* An error if the network's labels are of texts and the data's of words, or the other way round. */
static void ft__texts_check_network(ft_model *m, void *user, const char *call)
{
    bool tagged = ft__has_tags((const ft__texts *)user);
    const ft__node *labels = ft__get_node(m, ft__find_node(m, "labels"));
    if (tagged && labels && !ft__has_length(labels))
        ft__fail(&m->context, FT_SHAPE, "%s: the data has a class for each word, but the network"
                 " gives one to each text: ft_finetune gives it a head for words", call);
    if (!tagged && ft__classifies_steps(m))
        ft__fail(&m->context, FT_SHAPE, "%s: the network gives a class to each word, but the data"
                 " has none of words: a CoNLL file is expected", call);
}

static bool ft__texts_has_views(void *user)
{
    const ft__texts *t = (const ft__texts *)user;
    return t->shuffle || t->keep;
}

static void ft__texts_release(void *user)
{
    ft__texts *t = (ft__texts *)user;
    ft__context *c = t->context;
    ft__release(c, t->keep);
    ft__release(c, t->types.values);
    ft__tokenized_free(c, &t->tokens);
    ft__vocabulary_release(&t->classes);
    ft__release(c, t->numbers);
    ft__release(c, t->labels);
    ft__release(c, t->second);
    ft__release(c, t->start);
    ft__release(c, t->letters.letters);
    ft__release(c, t->note.letters);
    ft__release(c, t->words.at);
    ft__release(c, t->ends.at);
    ft__release(c, t);
}

/* Logs how many sentences, words and types of entities were read. */
static void ft__sentences_say(const ft__texts *t, const char *path)
{
    char names[200];
    size_t at = 0;
    int i, types = 0;
    names[0] = 0;
    for (i = 0; i < t->classes.count; ++i) {
        const char *name = ft__piece_text(&t->classes, i);
        if (*name != 'B') continue;
        if (at < 100)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%.40s", types ? ", " : " (",
                                   name + 2);
        types += 1;
    }
    if (at) snprintf(names + at, sizeof names - at, at < 100 ? ")" : ", ...)");
    ft__log(t->context, "%s: tokens: %d sentences of %zu words, entities of %d types%s", path,
            t->count, t->words.count, types, names);
}

/* Logs the range of a regression's numbers. */
static void ft__numbers_say(const ft__texts *t, const char *path)
{
    float least = t->numbers[0], most = t->numbers[0];
    int i;
    for (i = 1; i < t->count; ++i) {
        if (t->numbers[i] < least) least = t->numbers[i];
        if (t->numbers[i] > most) most = t->numbers[i];
    }
    ft__log(t->context, "%s: regression: %d %s with numbers from %g to %g; %s", path, t->count,
            t->pairs ? "pairs" : "texts", (double)least, (double)most,
            t->note.count ? t->note.letters : "");
}

/* Logs what was read; for a table also its columns. */
static void ft__texts_say(const ft__texts *t, const char *path, bool labelled)
{
    char names[200];
    size_t at = 0;
    int i;
    names[0] = 0;
    for (i = 0; labelled && i < t->classes.count && at < 100; ++i)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%.40s", i ? ", " : " (",
                               ft__piece_text(&t->classes, i));
    if (at) snprintf(names + at, sizeof names - at, i < t->classes.count ? ", ...)" : ")");
    if (labelled)
        ft__log(t->context, "%s: classification: %d %s of %d classes%s%s%s", path, t->count,
                t->pairs ? "pairs" : "texts", t->classes.count, names, t->note.count ? "; " : "",
                t->note.count ? t->note.letters : "");
    else if (t->note.count)
        ft__log(t->context, "%s: %d %s; %s", path, t->count, t->pairs ? "pairs" : "texts",
                t->note.letters);
    if (t->not_utf8)
        ft__log(t->context, "%s: %d of the texts have bytes that are not UTF-8", path,
                t->not_utf8);
}

/* Reads the path or the memory; the classes are not sorted and the tokens not made yet. */
static ft__texts *ft__texts_read(ft_model *m, const char *path, const ft_text_options *o)
{
    ft__context *c = &m->context;
    ft__texts *t = (ft__texts *)ft__allocate(c, 1, sizeof *t);
    unsigned char *content;
    size_t bytes;
    if (!t) return NULL;
    t->context = t->letters.context = t->note.context = c;
    t->types.context = c;
    t->classes.context = t->classes.letters.context = c;
    t->words.size = sizeof(ft__word);
    t->ends.size = sizeof(size_t);
    if (!path) path = "(memory)";
    if (o->memory) ft__read_content(t, path, (const char *)o->memory, o->bytes, o);
    else if (ft__is_folder(c, path)) ft__read_text_folder(t, path);
    else {
        content = ft__read_file(c, path, &bytes);
        if (content) ft__read_content(t, path, (const char *)content, bytes, o);
        ft__release(c, content);
    }
    if (t->count == 0) ft__fail(c, FT_FORMAT, "%s: has no texts", path);
    return t;
}

/* Keeps `most` texts of each class, drawn by the seed, in the order of the file. */
static void ft__keep_per_class(ft__texts *t, int most, uint64_t seed)
{
    ft__context *c = t->context;
    int *order = (int *)ft__allocate(c, 2 * (size_t)t->count + 1, sizeof *order), i, kept = 0;
    int *taken = (int *)ft__allocate(c, (size_t)t->classes.count + 1, sizeof *taken);
    char *keep = (char *)ft__allocate(c, (size_t)t->count + 1, 1);
    if (ft__ok(c)) {
        ft__shuffle(order, t->count, ft__key(seed, 0, 0, FT__USE_PER_CLASS));
        for (i = 0; i < t->count; ++i)
            if (taken[t->labels[order[i]]]++ < most) keep[order[i]] = 1;
        for (i = 0; i < t->count; ++i) {
            if (!keep[i]) continue;
            t->start[kept] = t->start[i];
            if (t->pairs) t->second[kept] = t->second[i];
            t->labels[kept++] = t->labels[i];
        }
        t->count = kept;
    }
    ft__release(c, keep);
    ft__release(c, taken);
    ft__release(c, order);
}

/* Makes the texts' tokens, and what their views need. */
static void ft__texts_prepare(ft__texts *t, ft_tokenizer *tokenizer, const ft_text_options *o,
                              int max_length, const char *path)
{
    bool changed = o->shuffle || o->subsample != 0;
    if (ft__has_tags(t)) ft__tokenize_sentences(t, tokenizer, max_length, path);
    else ft__tokenize_texts(t, tokenizer, max_length, path);
    t->end = o->shuffle ? -1 : tokenizer->end; /* the end of a shuffled text means nothing */
    t->shuffle = o->shuffle;
    t->seed = t->context->desc.seed;
    if (changed && t->pairs)
        ft__fail(t->context, FT_INVALID, "ft_texts: shuffle and subsample are not for pairs");
    if (changed && (tokenizer->kind != FT_WORDS || !(o->subsample >= 0 && o->subsample <= 1)))
        ft__fail(t->context, FT_INVALID, "ft_texts: shuffle and subsample need an FT_WORDS"
                 " vocabulary, and subsample (%g) must be from 0 to 1", (double)o->subsample);
    else if (o->subsample > 0) ft__subsample(t, tokenizer->pieces.count, o->subsample);
}

static ft_status ft__texts_check(ft__context *c, const char *path, const ft_text_options *o)
{
    bool folder = !o->memory && ft__is_folder(c, path);
    const ft__field_use uses[] = {
        {"minimum_score", o->minimum_score != 0, o->task == FT_TASK_EMBEDDINGS,
         "FT_TASK_EMBEDDINGS"},
        {"text_column", o->text_column != NULL, !folder, "a table, not a folder"},
        {"label_column", o->label_column != NULL, !folder, "a table, not a folder"},
        {"format", o->format != NULL, !folder, "a table, not a folder"},
        {"pair", o->pair, !folder, "a table, not a folder"},
        {"pair", o->pair, o->text_column != NULL, "two columns that text_column names"},
        {"header", o->header != FT_HEADER_AUTO, !folder, "a table, not a folder"},
        {"label_column", o->label_column != NULL, !o->unlabelled, "labelled texts"},
        {"match_classes", o->match_classes, !o->unlabelled, "labelled texts"},
        {"classes_of", o->classes_of != NULL, !o->unlabelled, "labelled texts"},
        {"match_classes", o->match_classes, !o->classes_of, "the model's classes, but"
         " classes_of is set"},
        {"bytes", o->bytes > 0, o->memory != NULL, "memory"},
        {"task", o->task == FT_TASK_TOKENS, !folder && (!o->format || !strcmp(o->format, "conll")),
         "a CoNLL file"}};
    if (o->longest < 0 || o->per_class < 0 || !ft__not_negative(o->subsample))
        return ft__fail(c, FT_INVALID, "%s: longest %d, per_class %d, subsample %g: each must be"
                        " finite and not negative", path, o->longest, o->per_class,
                        (double)o->subsample);
    return ft__check_uses(c, path, uses, sizeof uses / sizeof uses[0]);
}

/* Sentences with tags take fewer options. */
static ft_status ft__sentences_check(ft__context *c, const char *path, const ft_text_options *o)
{
    static const char table[] = "texts with one label; these are sentences whose words have tags";
    const ft__field_use uses[] = {
        {"task", o->task != FT_TASK_AUTO, o->task == FT_TASK_TOKENS, table},
        {"text_column", o->text_column != NULL, false, table},
        {"label_column", o->label_column != NULL, false, table},
        {"header", o->header != FT_HEADER_AUTO, false, table},
        {"pair", o->pair, false, table},
        {"per_class", o->per_class > 0, false, table},
        {"unlabelled", o->unlabelled, false, table},
        {"shuffle", o->shuffle, false, table},
        {"subsample", o->subsample != 0, false, table}};
    return ft__check_uses(c, path, uses, sizeof uses / sizeof uses[0]);
}

/* The source of texts that are ready; NULL with an error. */
static ft_data *ft__texts_data(ft_model *m, ft__texts *t, ft_task task)
{
    bool tagged = ft__has_tags(t);
    ft_source source;
    ft_data *data;
    memset(&source, 0, sizeof source);
    source.user = t;
    source.count = t->count;
    source.classes = t->classes.count;
    source.get = ft__texts_get;
    source.label = tagged || t->numbers ? NULL : ft__texts_label;
    source.name = ft__texts_name;
    source.class_name = ft__texts_class_name;
    source.length = ft__texts_length;
    source.release = ft__texts_release;
    data = ft_data_source(m, source);
    if (!data) return NULL;
    data->features.has_views = ft__texts_has_views;
    data->features.check_network = ft__texts_check_network;
    data->fills = t->numbers ? "tokens,lengths,types,target" : "tokens,lengths,types,labels";
    data->task = task;
    data->tasks = tagged ? 0u : 1u << FT_TASK_LANGUAGE_MODEL; /* the texts alone */
    if (t->numbers) data->features.number = ft__texts_number;
    if (tagged || t->numbers) data->features.content = ft__texts_content;
    if (!tagged) return data;
    data->features.samples = "sentences";
    data->features.words = ft__texts_words;
    return data;
}

/* A model that is to be trained reads from now on what these texts are; one that is only evaluated
   may be made for pairs, but what it learnt from pairs it cannot tell of single texts. */
static void ft__texts_set_pairs(ft_model *m, const ft__texts *t, const char *path, bool evaluates)
{
    if (m->pairs == t->pairs) return;
    if (!t->pairs && evaluates)
        ft__fail(&m->context, FT_INVALID, "%s: single texts, but the model reads pairs: say which"
                 " two columns (text_column and pair, --text-column a,b --pairs)", path);
    else ft_set_pairs(m, t->pairs);
}

ft_data *ft_texts(ft_model *m, const char *path, ft_text_options options)
{
    ft__context *c;
    ft__texts *t;
    ft_tokenizer *tokenizer;
    ft_data *data = NULL;
    ft_task task;
    bool tagged;
    if (!ft__usable(m) || !FT__HAS(m, TEXT) || !FT__HAS(m, DATA)) return NULL;
    c = &m->context;
    if (!options.memory && !ft__given(c, path, "ft_texts: the path")) return NULL;
    if (!path) path = "(memory)";
    options.unlabelled = options.unlabelled || options.task == FT_TASK_LANGUAGE_MODEL;
    if (ft__check_task(c, "ft_texts", options.task) != FT_OK
        || ft__texts_check(c, path, &options) != FT_OK) return NULL;
    if (options.task == FT_TASK_EMBEDDINGS) return ft__text_pairs_open(m, path, options);
    t = ft__texts_read(m, path, &options);
    if (!t) return NULL;
    tagged = ft__has_tags(t);
    if (tagged) ft__sentences_check(c, path, &options);
    if (ft__ok(c)) ft__texts_set_pairs(m, t, path, options.match_classes);
    task = ft__texts_task(m, t, &options);
    if (task == FT_TASK_REGRESSION && options.per_class > 0)
        ft__fail(c, FT_INVALID, "%s: per_class has no effect here: it is for classes, but the"
                 " labels are numbers", path);
    if (ft__ok(c) && task == FT_TASK_REGRESSION) ft__labels_to_numbers(t, path);
    else if (ft__ok(c)) ft__sort_classes(m, t, path, &options);
    if (ft__ok(c) && options.per_class > 0) ft__keep_per_class(t, options.per_class, c->desc.seed);
    if (ft__ok(c) && tagged) ft__sentences_say(t, path);
    else if (ft__ok(c) && t->numbers) ft__numbers_say(t, path);
    else if (ft__ok(c)) ft__texts_say(t, path, !options.unlabelled);
    if (tagged && !options.tokenizer && !m->tokenizer) options.vocabulary.spaces_only = true;
    tokenizer = ft__ok(c) ? ft__tokenizer_for(m, t, options.tokenizer, FT_WORDS,
                                              options.vocabulary) : NULL;
    if (tokenizer && tokenizer != m->tokenizer) ft_set_tokenizer(m, tokenizer);
    if (options.longest) ft_set_max_length(m, options.longest);
    if (tokenizer) ft__texts_prepare(t, tokenizer, &options, ft_max_length(m), path);
    if (ft__ok(c)) data = ft__texts_data(m, t, task);
    if (data) data->pieces = ft_tokenizer_count(tokenizer);
    else ft__texts_release(t);
    return data;
}

