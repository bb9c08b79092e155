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
