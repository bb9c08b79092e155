#pragma once
#include "interface/types.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "nodes/nodes.h"
#include "text/tokenizers.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/texts.h"

/* =============================================================================================
   [SECTION] data/text_streams: Streams of text
   For language models. A text is cut into as many streams of equal length as a batch has rows. Each
   batch holds the next steps of all streams, and a recurrent network's state is carried from batch
   to batch (Zaremba et al. 2014; truncated back-propagation, Williams and Peng 1990). The label of
   a step is the next token.
   ============================================================================================= */
typedef struct ft__streams {
    ft__context *context;
    ft__ids ids;
    int rows, steps;
    size_t each;            /* total steps of a stream */
    char name[40];          /* number and hash of the tokens, to tell runs on other texts apart */
} ft__streams;

static int ft__streams_length(void *user, int index)
{
    const ft__streams *s = (const ft__streams *)user;
    size_t left = s->each - (size_t)(index / s->rows) * (size_t)s->steps;
    return left < (size_t)s->steps ? (int)left : s->steps;
}

static bool ft__streams_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__streams *s = (const ft__streams *)user;
    const int32_t *ids = s->ids.values + (size_t)(index % s->rows) * s->each
        + (size_t)(index / s->rows) * (size_t)s->steps;
    int length = ft__streams_length(user, index), i, k;
    (void)view;
    for (i = 0; i < slot_count; ++i) {
        int32_t *to = (int32_t *)slots[i].values;
        bool tokens = !strcmp(slots[i].name, "tokens");
        if (slots[i].type != FT_I32) continue;
        if (slots[i].shape.rank == 0 && !strcmp(slots[i].name, "lengths")) *to = length;
        if (slots[i].shape.rank != 1 || (!tokens && strcmp(slots[i].name, "labels") != 0)) continue;
        if (slots[i].shape.size[0] < length) return false;
        for (k = 0; k < slots[i].shape.size[0]; ++k)
            to[k] = k < length ? ids[k + (tokens ? 0 : 1)] : tokens ? 0 : -1;
        slots[i].length = length;
    }
    return true;
}

/* An error if the network classifies whole texts: it cannot use a label for each token. */
static void ft__streams_check_network(ft_model *m, void *user, const char *call)
{
    (void)user;
    ft__check_predicts_tokens(m, call, "ft_text_streams is");
}

static const char *ft__streams_name(void *user, int index)
{
    (void)index;
    return ((const ft__streams *)user)->name;
}

static void ft__streams_release(void *user)
{
    ft__streams *s = (ft__streams *)user;
    ft__context *c = s->context;
    ft__release(c, s->ids.values);
    ft__release(c, s);
}

/* Adds the tokens of a text. Words are added line by line, with the end piece after each line,
   since a vocabulary of words has no piece for a line's end. Other kinds take the text as it is. */
static void ft__streams_add(ft__streams *s, ft_tokenizer *t, const char *text, size_t bytes)
{
    ft_tokenize_options plain = {false, false};
    bool lines = t->kind == FT_WORDS || t->kind == FT_WORDPIECE;
    const char *line = text;
    size_t at = 0, count = bytes;
    int i;
    while (lines ? ft__next_line(text, bytes, &at, &line, &count) : at++ == 0) {
        ft_tokens tokens = ft_tokenize(t, line, count, plain);
        for (i = 0; i < tokens.count; ++i) ft__ids_add(&s->ids, tokens.ids[i]);
        if (lines && t->end >= 0 && ft__ok(s->context)) ft__ids_add(&s->ids, t->end);
    }
}

static void ft__streams_fill(ft__streams *s, ft_tokenizer *tokenizer, const ft__texts *t,
                             const char *path)
{
    int newline = ft__find_piece(tokenizer, "\n"), i;
    for (i = 0; i < t->count && ft__ok(s->context); ++i) {
        const char *text = ft__one_text(t, i);
        ft__streams_add(s, tokenizer, text, strlen(text));
        if (t->count > 1 && tokenizer->kind == FT_CHARACTERS && newline >= 0)
            ft__ids_add(&s->ids, newline);
    }
    if (!ft__ok(s->context)) return;
    s->each = s->ids.count > 0 ? (s->ids.count - 1) / (size_t)s->rows : 0;
    if (s->each < 1 || s->each / (size_t)s->steps >= (size_t)(INT_MAX / s->rows - 1))
        ft__fail(s->context, FT_INVALID, "%s: %zu tokens cannot be divided into %d streams", path,
                 s->ids.count, s->rows);
    ft__print(s->name, sizeof s->name, "%zu tokens %016llx", s->ids.count, (unsigned long long)
             ft__hash_bytes(0, s->ids.values, s->ids.count * sizeof *s->ids.values));
}

/* Reads the texts to cut: a column of a table, or a whole file as one. */
static ft__texts *ft__streams_read(ft_model *m, const char *path, const ft_stream_options *o)
{
    ft_text_options table;
    ft__context *c = &m->context;
    ft__texts *t;
    unsigned char *content = NULL;
    size_t bytes = o->bytes;
    memset(&table, 0, sizeof table);
    table.memory = o->memory;
    table.bytes = o->bytes;
    table.text_column = o->text_column;
    table.format = o->format;
    table.header = o->header;
    table.unlabelled = true;
    table.task = FT_TASK_LANGUAGE_MODEL;
    if (o->text_column || o->table) return ft__texts_read(m, path, &table);
    t = (ft__texts *)ft__allocate(c, 1, sizeof *t);
    if (!t) return NULL;
    t->context = t->letters.context = t->note.context = c;
    t->classes.context = t->classes.letters.context = c;
    if (!o->memory) content = ft__read_file(c, path, &bytes);
    if (ft__ok(c)) ft__read_text(t, path ? path : "(memory)", content
                                 ? (const char *)content : (const char *)o->memory, bytes, "");
    ft__release(c, content);
    return t;
}

ft_data *ft_text_streams(ft_model *m, const char *path, ft_stream_options options)
{
    ft__context *c;
    ft__streams *s;
    ft__texts *t;
    ft_tokenizer *tokenizer = NULL;
    ft_source source;
    ft_data *data = NULL;
    if (!ft__usable(m) || !FT__HAS(m, TEXT) || !FT__HAS(m, DATA)) return NULL;
    c = &m->context;
    if (!options.memory && !ft__given(c, path, "ft_text_streams: the path")) return NULL;
    if (options.streams < 0 || options.steps < 0 || options.vocabulary.minimum_count < 0
        || options.vocabulary.most < 0) {
        ft__fail(c, FT_INVALID, "ft_text_streams: %d streams of %d steps, minimum_count %d, most"
                 " %d: none may be negative", options.streams, options.steps,
                 options.vocabulary.minimum_count, options.vocabulary.most);
        return NULL;
    }
    if ((options.format || options.header) && !options.text_column && !options.table) {
        ft__fail(c, FT_INVALID, "ft_text_streams: %s has no effect here: it is for a table: set"
                 " text_column or table", options.format ? "format" : "header");
        return NULL;
    }
    t = ft__streams_read(m, path, &options);
    if (t && ft__ok(c)) ft__texts_say(t, path ? path : "(memory)", false);
    s = (ft__streams *)ft__allocate(c, 1, sizeof *s);
    memset(&source, 0, sizeof source);
    if (s) {
        s->context = s->ids.context = c;
        s->rows = options.streams > 0 ? options.streams : 32;
        s->steps = options.steps > 0 ? options.steps : 64;
        tokenizer = ft__tokenizer_for(m, t, options.tokenizer, options.vocabulary_kind,
                                      options.vocabulary);
    }
    if (tokenizer && tokenizer != m->tokenizer) ft_set_tokenizer(m, tokenizer);
    if (tokenizer) ft__streams_fill(s, tokenizer, t, path ? path : "(memory)");
    if (t) ft__texts_release(t);
    if (ft__ok(c)) {
        source.user = s;
        source.count = (int)((s->each + (size_t)s->steps - 1) / (size_t)s->steps) * s->rows;
        source.streams = s->rows;
        source.get = ft__streams_get;
        source.name = ft__streams_name;
        source.length = ft__streams_length;
        source.release = ft__streams_release;
        data = ft_data_source(m, source);
    }
    if (data) data->features.check_network = ft__streams_check_network;
    if (data) data->fills = "tokens,lengths,labels";
    if (data) data->pieces = ft_tokenizer_count(tokenizer);
    else if (s) ft__streams_release(s);
    return data;
}

