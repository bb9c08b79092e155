#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "text/tokenizers.h"
#include "text/tokenizer_steps.h"
#include "text/tokenizer_files.h"

/* =============================================================================================
   [SECTION] text/tokenizing: Using tokenisers
   The public functions, and vocabularies that are built from texts.
   ============================================================================================= */

/* ---- A vocabulary from texts ---- */
typedef struct ft__by_count { const ft__vocabulary *pieces; const int32_t *counts; } ft__by_count;

static bool ft__count_less(const void *context, int a, int b)
{
    const ft__by_count *by = (const ft__by_count *)context;
    if (by->counts[a] != by->counts[b]) return by->counts[a] > by->counts[b];
    return strcmp(ft__piece_text(by->pieces, a), ft__piece_text(by->pieces, b)) < 0;
}

/* While the texts are read, `pieces` holds all words, and `ids` how often each was seen. */
static void ft__count_word(ft_tokenizer *t, const char *word, size_t bytes)
{
    int id = ft__vocabulary_find(&t->pieces, word, bytes);
    if (id >= 0) {
        t->ids.values[id] += 1;
        return;
    }
    ft__vocabulary_add(&t->pieces, word, bytes);
    ft__ids_add(&t->ids, 1);
}

static void ft__count_characters(ft_tokenizer *t, const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        bool valid = ft__utf8_read(text, bytes, &taken) != FT__INVALID || taken > 1;
        if (valid && *text) ft__count_word(t, text, (size_t)taken);
    }
}

/* Keeps the words seen often enough, the most frequent first, after the special pieces. */
static void ft__keep_frequent(ft_tokenizer *t, ft_vocabulary_options o)
{
    static const char *const first[] = {"<pad>", "<unk>", "<eos>"};
    ft__context *c = t->ids.context;
    ft__vocabulary all = t->pieces;
    int *order = (int *)ft__allocate(c, (size_t)all.count + 1, sizeof *order), i;
    int most = o.most > 0 ? o.most : INT_MAX, least = o.minimum_count > 0 ? o.minimum_count : 1;
    ft__by_count by;
    memset(&t->pieces, 0, sizeof t->pieces);
    t->pieces.context = t->pieces.letters.context = c;
    by.pieces = &all;
    by.counts = t->ids.values;
    if (order) ft__sort_order(order, all.count, ft__count_less, &by);
    for (i = 0; i < 3 && t->kind == FT_WORDS; ++i)
        ft__vocabulary_add(&t->pieces, first[i], strlen(first[i]));
    for (i = 0; order && i < all.count && t->pieces.count < most; ++i) {
        if (t->ids.values[order[i]] < least) break;
        ft__vocabulary_add(&t->pieces, ft__piece_text(&all, order[i]),
                           ft__piece_bytes(&all, order[i]));
    }
    if (t->kind == FT_WORDS) t->unknown = 1;
    t->ids.count = 0;
    ft__release(c, order);
    ft__vocabulary_release(&all);
}

ft_tokenizer *ft_tokenizer_build(ft_model *m, ft_tokenizer_kind kind, const char *const *texts,
                                 int count, ft_vocabulary_options options)
{
    ft_tokenizer *t;
    int i;
    if (!ft__usable(m) || !FT__HAS(m, TEXT)) return NULL;
    if ((kind != FT_CHARACTERS && kind != FT_WORDS) || !texts || count < 1) {
        ft__fail(&m->context, FT_INVALID, "ft_tokenizer_build: the kind must be FT_CHARACTERS or"
                 " FT_WORDS, and at least 1 text is needed");
        return NULL;
    }
    for (i = 0; i < count; ++i)
        if (!ft__given(&m->context, texts[i], "ft_tokenizer_build: one of the texts")) return NULL;
    t = ft__tokenizer_make(m, kind);
    if (!t) return NULL;
    if (kind == FT_WORDS) ft__bert_steps(t, !options.cased, options.spaces_only);
    else ft__set_steps(t, FT__FUSE, "characters");
    for (i = 0; i < count && ft__ok(&m->context); ++i) {
        if (kind == FT_WORDS) ft__text_words(t, texts[i], strlen(texts[i]), ft__count_word);
        else ft__count_characters(t, texts[i], strlen(texts[i]));
    }
    if (ft__ok(&m->context)) ft__keep_frequent(t, options);
    return ft__tokenizer_finish(t, "texts");
}

void ft_tokenizer_free(ft_tokenizer *t)
{
    ft_tokenizer **link;
    if (!t) return;
    for (link = &t->model->tokenizers; *link; link = &(*link)->next)
        if (*link == t) {
            *link = t->next;
            break;
        }
    if (t->model->tokenizer == t) t->model->tokenizer = NULL;
    ft__tokenizer_release(t);
}

/* ---- Using it ---- */
ft_tokens ft_tokenize(ft_tokenizer *t, const char *text, size_t bytes, ft_tokenize_options options)
{
    ft_tokens tokens = {NULL, 0};
    int i;
    if (!FT__HAS_TEXT || !t || !ft__ok(t->ids.context)) return tokens;
    t->ids.count = 0;
    for (i = 0; options.special && i < t->before_count; ++i) ft__ids_add(&t->ids, t->before[i]);
    if (text && options.parse_special) ft__encode_as(t, text, bytes, true, true);
    else if (text) ft__encode(t, text, bytes);
    for (i = 0; options.special && i < t->after_count; ++i) ft__ids_add(&t->ids, t->after[i]);
    if (t->ids.count > INT_MAX)
        ft__fail(t->ids.context, FT_INVALID, "more than %d tokens", INT_MAX);
    if (!ft__ok(t->ids.context)) return tokens;
    tokens.ids = t->ids.values;
    tokens.count = (int)t->ids.count;
    return tokens;
}

const char *ft_detokenize(ft_tokenizer *t, const int32_t *ids, int count, size_t *bytes)
{
    bool first = true;
    int i;
    if (bytes) *bytes = 0;
    if (!FT__HAS_TEXT || !t || !ft__ok(t->ids.context)) return "";
    if (count > 0 && !ft__given(t->ids.context, ids, "ft_detokenize: ids")) return "";
    t->text.count = 0;
    ft__text_add_bytes(&t->text, "", 0);
    for (i = 0; i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= t->pieces.count) {
            ft__fail(t->ids.context, FT_INVALID, "token %d: the vocabulary has %d pieces",
                     (int)ids[i], t->pieces.count);
            return "";
        }
        ft__decode_piece(t, ids[i], first, &t->text);
        first = first && ft__is_special(t, ids[i]);
    }
    if (!ft__ok(t->ids.context)) return "";
    if (bytes) *bytes = t->text.count;
    return t->text.letters;
}

ft_tokenizer_kind ft_tokenizer_kind_of(const ft_tokenizer *t)
{
    return t ? t->kind : FT_CHARACTERS;
}

int ft_tokenizer_count(const ft_tokenizer *t) { return t ? t->pieces.count : 0; }

const char *ft_tokenizer_piece(const ft_tokenizer *t, int id)
{
    return t && id >= 0 && id < t->pieces.count ? ft__piece_text(&t->pieces, id) : NULL;
}

int ft_tokenizer_find(const ft_tokenizer *t, const char *piece)
{
    return t && piece ? ft__find_piece(t, piece) : -1;
}

ft_status ft_set_tokenizer(ft_model *m, ft_tokenizer *t)
{
    char *text;
    if (!ft__usable(m) || !FT__HAS(m, TEXT)) return ft__status_of(m);
    if (t && t->model != m)
        return ft__fail(&m->context, FT_INVALID, "ft_set_tokenizer: the tokeniser belongs to"
                        " another model");
    text = t ? ft__tokenizer_text(t) : NULL;
    if (!ft__usable(m)) return ft__status_of(m);
    ft__release(&m->context, m->tokenizer_text);
    m->tokenizer_text = text;
    m->tokenizer = t;
    return FT_OK;
}

ft_tokenizer *ft_get_tokenizer(const ft_model *m) { return m ? m->tokenizer : NULL; }
