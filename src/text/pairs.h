#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "text/tokenizers.h"

/* =============================================================================================
   [SECTION] text/pairs: Pairs of texts
   Two texts as one sequence: BERT's [CLS] a [SEP] b [SEP], whose tokens are of type 0 up to the
   first [SEP], then of type 1; RoBERTa's <s> a </s></s> b </s>, all of type 0. What stands where is
   a tokeniser's template: that of its tokenizer.json, or its kind's usual one.
   ============================================================================================= */
enum { FT__PAIR_FIRST = -1, FT__PAIR_SECOND = -2 };

static void ft__pair_add(ft_tokenizer *t, int id, int type)
{
    if (t->pair_count == FT__MOST_PAIR) return;
    t->pair[t->pair_count].id = id;
    t->pair[t->pair_count++].type = type;
}

static void ft__pair_add_all(ft_tokenizer *t, const int *ids, int count, int type)
{
    int i;
    for (i = 0; i < count; ++i) ft__pair_add(t, ids[i], type);
}

/* The template of a tokeniser that has none: what stands around a single text stands around the
   first, and what ends one ends the second too. */
static void ft__pair_default(ft_tokenizer *t)
{
    int i, first = 0, second = 0;
    for (i = 0; i < t->pair_count; ++i) {
        first += t->pair[i].id == FT__PAIR_FIRST;
        second += t->pair[i].id == FT__PAIR_SECOND;
    }
    if (first == 1 && second == 1) return;
    t->pair_count = 0;
    ft__pair_add_all(t, t->before, t->before_count, 0);
    ft__pair_add(t, FT__PAIR_FIRST, 0);
    ft__pair_add_all(t, t->after, t->after_count, 0);
    if (t->kind == FT_WORDS && t->after_count == 0 && t->end >= 0) ft__pair_add(t, t->end, 0);
    ft__pair_add(t, FT__PAIR_SECOND, 1);
    ft__pair_add_all(t, t->after, t->after_count, 1);
}

/* Reads a post_processor of tokenizer.json: TemplateProcessing has a list, the others names. */
static void ft__pair_read(ft_tokenizer *t, const ft__json *json, int part)
{
    int list = ft__json_member(json, part, "pair"), i;
    int cls = ft__json_member(json, part, "cls"), sep = ft__json_member(json, part, "sep");
    const char *first = ft__json_string(json, ft__json_element(json, cls, 0));
    const char *last = ft__json_string(json, ft__json_element(json, sep, 0));
    const char *type = ft__json_string(json, ft__json_member(json, part, "type"));
    bool roberta = type && !strcmp(type, "RobertaProcessing");
    t->pair_count = 0;
    if (first && last) {
        int begin = ft__vocabulary_find(&t->pieces, first, strlen(first));
        int end = ft__vocabulary_find(&t->pieces, last, strlen(last));
        if (begin < 0 || end < 0) return;
        ft__pair_add(t, begin, 0);
        ft__pair_add(t, FT__PAIR_FIRST, 0);
        ft__pair_add(t, end, 0);
        if (roberta) ft__pair_add(t, end, 0);
        ft__pair_add(t, FT__PAIR_SECOND, !roberta);
        ft__pair_add(t, end, !roberta);
        return;
    }
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        int special = ft__json_member(json, i, "SpecialToken");
        int text = ft__json_member(json, i, "Sequence"), what = special >= 0 ? special : text;
        const char *name = ft__json_string(json, ft__json_member(json, what, "id"));
        int64_t number = 0;
        int id = FT__PAIR_SECOND;
        ft__json_int(json, ft__json_member(json, what, "type_id"), &number);
        if (special >= 0 && name) id = ft__vocabulary_find(&t->pieces, name, strlen(name));
        else if (name && !strcmp(name, "A")) id = FT__PAIR_FIRST;
        if (!name || (special >= 0 && id < 0) || number < 0 || number > 7) {
            t->pair_count = 0; /* a piece that the vocabulary lacks */
            return;
        }
        ft__pair_add(t, id, (int)number);
    }
}

/* A model file has the template as a list: id, type, id, type ... */
static void ft__pair_write(const ft_tokenizer *t, ft__text *text)
{
    int i;
    ft__text_add(text, ",\"pair\":[");
    for (i = 0; i < t->pair_count; ++i)
        ft__text_add(text, "%s%d,%d", i ? "," : "", t->pair[i].id, t->pair[i].type);
    ft__text_add(text, "]");
}

static void ft__pair_own(ft_tokenizer *t, const ft__json *json, const char *path)
{
    int list = ft__json_member(json, 0, "pair"), i, k = 0;
    int64_t numbers[2] = {0, 0};
    bool fits = true;
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        fits = fits && ft__json_int(json, i, &numbers[k & 1]) && k < 2 * FT__MOST_PAIR;
        if (k++ & 1) ft__pair_add(t, fits ? (int)numbers[0] : 0, fits ? (int)numbers[1] : 0);
        fits = fits && numbers[0] >= FT__PAIR_SECOND && numbers[0] < t->pieces.count
            && numbers[1] >= 0 && numbers[1] < 8;
    }
    if (!fits || k & 1)
        ft__fail(t->ids.context, FT_FORMAT, "%s: damaged tokeniser: its template of pairs", path);
}

/* How many tokens of each text are kept, of which there are `room` in all: Hugging Face's
   "longest_first", which shortens the longer text, then both. */
static void ft__pair_cut(size_t *first, size_t *second, size_t room)
{
    size_t *less = *first <= *second ? first : second, *more = less == first ? second : first;
    if (*first + *second <= room) return;
    if (*less > room) *more = *less;
    else *more = room - *less > *less ? room - *less : *less;
    if (*first + *second <= room) return;
    *less = room / 2;
    *more = *less + room % 2;
}

/* Makes the ids and types of a pair in t->pair_ids and t->pair_types, at most `longest` (0: all).
   Returns how many they are uncut. */
static int ft__encode_pair(ft_tokenizer *t, const char *first, size_t first_bytes,
                           const char *second, size_t second_bytes, int longest)
{
    size_t counts[2], around = (size_t)t->pair_count - 2, room, from, whole, k;
    int i;
    t->ids.count = t->pair_ids.count = t->pair_types.count = 0;
    ft__encode(t, first, first_bytes);
    from = counts[0] = t->ids.count;
    ft__encode(t, second, second_bytes);
    counts[1] = t->ids.count - from;
    whole = t->ids.count + around;
    if (whole > INT_MAX)
        ft__fail(t->ids.context, FT_INVALID, "more than %d tokens", INT_MAX);
    room = longest > 0 && (size_t)longest > around ? (size_t)longest - around : 0;
    if (longest > 0) ft__pair_cut(&counts[0], &counts[1], room);
    for (i = 0; i < t->pair_count && ft__ok(t->ids.context); ++i) {
        bool is_second = t->pair[i].id == FT__PAIR_SECOND;
        bool is_text = is_second || t->pair[i].id == FT__PAIR_FIRST;
        size_t count = is_text ? counts[is_second] : 1;
        for (k = 0; k < count; ++k) {
            ft__ids_add(&t->pair_ids, is_text ? t->ids.values[(is_second ? from : 0) + k]
                                              : t->pair[i].id);
            ft__ids_add(&t->pair_types, t->pair[i].type);
        }
    }
    if (longest > 0 && t->pair_ids.count > (size_t)longest) t->pair_ids.count = (size_t)longest;
    return ft__ok(t->ids.context) ? (int)whole : 0;
}

ft_pair_tokens ft_tokenize_pair(ft_tokenizer *t, const char *first, size_t first_bytes,
                                const char *second, size_t second_bytes,
                                ft_tokenize_pair_options options)
{
    ft_pair_tokens tokens = {NULL, NULL, 0};
    if (!FT__HAS_TEXT || !t || !ft__ok(t->ids.context)
        || !ft__given(t->ids.context, first, "ft_tokenize_pair: the first text")
        || !ft__given(t->ids.context, second, "ft_tokenize_pair: the second text")) return tokens;
    if (options.longest < 0)
        ft__fail(t->ids.context, FT_INVALID, "ft_tokenize_pair: longest is %d; it must not be"
                 " negative", options.longest);
    else ft__encode_pair(t, first, first_bytes, second, second_bytes, options.longest);
    if (!ft__ok(t->ids.context)) return tokens;
    tokens.ids = t->pair_ids.values;
    tokens.types = t->pair_types.values;
    tokens.count = (int)t->pair_ids.count;
    return tokens;
}
