#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "text/tokenizers.h"
#include "text/pairs.h"
#include "text/tokenizing.h"

/* =============================================================================================
   [SECTION] text/sequences: Texts as sequences
   What a network reads of a text, or of a pair of texts.
   ============================================================================================= */
/* The tokens of a text, or with `second` of a pair, and in *whole how many they are uncut. A text
   without tokens becomes one unknown piece, since a sequence has at least one step. */
static ft_pair_tokens ft__tokens_of(ft_tokenizer *t, const char *text, size_t bytes,
                                    const char *second, size_t second_bytes, int longest,
                                    int *whole)
{
    ft_tokenize_options special = {true, false};
    ft_pair_tokens tokens = {NULL, NULL, 0};
    ft__ids *ids = second ? &t->pair_ids : &t->ids;
    if (second) *whole = ft__encode_pair(t, text, bytes, second, second_bytes, longest);
    else {
        ft_tokens single = ft_tokenize(t, text, bytes, special);
        *whole = single.count;
        ft__cut_tokens(t, &single, longest);
        ids->count = (size_t)single.count;
    }
    if (ids->count == 0) {
        ft__ids_add(ids, t->unknown > 0 ? t->unknown : 0);
        if (second) ft__ids_add(&t->pair_types, 0);
    }
    if (!ft__ok(ids->context)) return tokens;
    tokens.ids = ids->values;
    tokens.types = second ? t->pair_types.values : NULL;
    tokens.count = (int)ids->count;
    return tokens;
}

/* ---- Many texts ---- */
typedef struct ft__tokenized { /* texts as tokens */
    ft__ids ids;            /* of all texts */
    size_t *start;          /* [count + 1]: in ids */
} ft__tokenized;

static void ft__tokenized_begin(ft__context *c, ft__tokenized *to, int count)
{
    to->ids.context = c;
    to->start = (size_t *)ft__allocate(c, (size_t)count + 1, sizeof *to->start);
}

/* Adds the tokens of text number `index`, the next. */
static void ft__tokenized_put(ft__tokenized *to, int index, ft_pair_tokens tokens)
{
    int k;
    for (k = 0; k < tokens.count; ++k) ft__ids_add(&to->ids, tokens.ids[k]);
    to->start[index + 1] = to->ids.count;
}

/* Makes and adds them; returns whether the text's end was cut off. */
static bool ft__tokenized_add(ft__tokenized *to, int index, ft_tokenizer *t, const char *text,
                              int longest)
{
    int whole = 0;
    ft_pair_tokens tokens = ft__tokens_of(t, text, strlen(text), NULL, 0, longest, &whole);
    ft__tokenized_put(to, index, tokens);
    return whole > tokens.count;
}

static int ft__tokenized_length(const ft__tokenized *t, int index)
{
    return (int)(t->start[index + 1] - t->start[index]);
}

/* Writes a text's tokens, or how many they are, into a slot of one of these names. */
static void ft__tokenized_fill(const ft__tokenized *t, int index, const char *tokens,
                               const char *lengths, ft_slot *slot)
{
    int32_t length = ft__tokenized_length(t, index);
    if (!strcmp(slot->name, lengths)) memcpy(slot->values, &length, sizeof length);
    if (strcmp(slot->name, tokens) != 0) return;
    memcpy(slot->values, t->ids.values + t->start[index], (size_t)length * sizeof length);
    slot->length = length;
}

static void ft__tokenized_free(ft__context *c, ft__tokenized *t)
{
    ft__release(c, t->start);
    ft__release(c, t->ids.values);
}
