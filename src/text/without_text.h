#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] text/without_text: Without text
   With FINETUNE_NO_TEXT the functions on tokenisers only report that they are left out.
   ============================================================================================= */
#ifdef FINETUNE_NO_TEXT
static void ft__no_text(ft_model *m)
{
    if (ft__usable(m))
        ft__fail(&m->context, FT_UNSUPPORTED,
                 "text is not supported by this build (FINETUNE_NO_TEXT)");
}

ft_tokenizer *ft_tokenizer_load(ft_model *m, const char *path, ft_tokenizer_options options)
{
    (void)path;
    (void)options;
    ft__no_text(m);
    return NULL;
}

ft_tokenizer *ft_tokenizer_build(ft_model *m, ft_tokenizer_kind kind, const char *const *texts,
                                 int count, ft_vocabulary_options options)
{
    (void)kind;
    (void)texts;
    (void)count;
    (void)options;
    ft__no_text(m);
    return NULL;
}

/* There is no tokeniser to call these with. */
void ft_tokenizer_free(ft_tokenizer *t) { (void)t; }

ft_tokens ft_tokenize(ft_tokenizer *t, const char *text, size_t bytes, ft_tokenize_options options)
{
    ft_tokens none = {NULL, 0};
    (void)t;
    (void)text;
    (void)bytes;
    (void)options;
    return none;
}

const char *ft_detokenize(ft_tokenizer *t, const int32_t *ids, int count, size_t *bytes)
{
    (void)t;
    (void)ids;
    (void)count;
    if (bytes) *bytes = 0;
    return "";
}

ft_tokenizer_kind ft_tokenizer_kind_of(const ft_tokenizer *t)
{
    (void)t;
    return FT_CHARACTERS;
}

int ft_tokenizer_count(const ft_tokenizer *t)
{
    (void)t;
    return 0;
}

const char *ft_tokenizer_piece(const ft_tokenizer *t, int id)
{
    (void)t;
    (void)id;
    return NULL;
}

int ft_tokenizer_find(const ft_tokenizer *t, const char *piece)
{
    (void)t;
    (void)piece;
    return -1;
}

ft_status ft_set_tokenizer(ft_model *m, ft_tokenizer *t)
{
    (void)t;
    ft__no_text(m);
    return m ? m->context.status : FT_MEMORY;
}

ft_tokenizer *ft_get_tokenizer(const ft_model *m)
{
    (void)m;
    return NULL;
}
#endif
