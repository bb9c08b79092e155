#pragma once
#include "interface/requirements.h"
#include "interface/types.h"

/* =============================================================================================
   [SECTION] interface/completions: Completions
   Data that teaches a language model to answer: only the answers are learnt, not the questions.
   ============================================================================================= */
typedef struct ft_completion_options {
    ft_tokenizer *tokenizer;/* default: the model's */
    ft_chat_template chat;  /* of messages; if it is set, prompts and completions are messages too,
                               of the user and the assistant. The Jinja text of a
                               tokenizer_config.json is not read */
    const char *stop;       /* the piece that ends a completion without a template; default: the
                               tokeniser's end, as "</s>" or "<|endoftext|>" */
    int longest;            /* tokens of a sample, as in ft_text_options */
    const void *memory;     /* the file's content instead of a path */
    size_t bytes;
    bool packed;            /* a row holds as many samples as fit in `longest` tokens, for a network
                               after ft_set_packed; fills "positions" I32 [FT_LENGTH] too */
} ft_completion_options;

/* Reads JSON Lines of {"prompt": text, "completion": text}, or of {"messages": [{"role": text,
   "content": text}, ...]}, as data for a language model. Fills "tokens" I32 [FT_LENGTH]; "labels"
   I32 [FT_LENGTH], at each step the next token, or -1 where it is not learnt; and "lengths". Learnt
   are the completion and what the assistant says, each with the piece that ends it, so that
   generation stops there (that piece becomes the tokeniser's end). A prompt and its completion are
   tokenised as one text, unless a piece would lie across their border. Special pieces come from the
   template only: what a message spells is text. Longer samples are cut at their end, and the log
   says how many. Returns NULL with an error, which names the line. */
FINETUNE_API ft_data *ft_completions(ft_model *m, const char *path, ft_completion_options options);
/* Lets rows hold several documents, so that there is little padding: a language model whose
   steps follow from those before them by causal attention gets the input "positions" I32 [N, L],
   each step's place in its document, from 0. No step sees another document: loss and gradients are
   those of the documents in rows of their own. `false` takes the input away, as ft_generate needs
   it. FT_INVALID for other networks. */
FINETUNE_API ft_status ft_set_packed(ft_model *m, bool packed);
