#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "text/tokenizers.h"
#include "text/tokenizer_files.h"

/* =============================================================================================
   [SECTION] text/chats: Chats
   Makes the tokens of a prompt with its completion, or of messages by a chat template, and tells
   which of them are learnt.
   ============================================================================================= */
#define FT__NO_BORDER ((size_t)-1)

typedef struct ft__chat {
    ft_tokenizer *tokenizer;
    ft_chat_template kind;  /* FT_CHAT_AUTO: none */
    int start, open, close, stop; /* pieces of the template; -1: it has none */
    ft__ids ids;
    ft__text learnt;        /* [ids]: 1 if it is learnt, else 0 */
    ft__text part;          /* text between two pieces, */
    size_t border;          /* from where on it is learnt */
    bool first;             /* nothing stands before it */
    int turns;              /* of user and assistant, so far */
    ft__text system;        /* Llama 2: what stands in the first turn */
} ft__chat;

static void ft__chat_id(ft__chat *chat, int id, bool learnt)
{
    char is = learnt;
    ft__ids_add(&chat->ids, id);
    ft__text_add_bytes(&chat->learnt, &is, 1);
    chat->first = false;
}

static void ft__chat_ids(ft__chat *chat, size_t from, size_t to, bool learnt)
{
    size_t i;
    for (i = from; i < to && ft__ok(chat->ids.context); ++i)
        ft__chat_id(chat, chat->tokenizer->ids.values[i], learnt);
}

/* Ends the text of chat->part. It is tokenised as a whole; if then a piece lies across the border,
   as two texts, for a prompt stands alone when its completion is generated. */
static void ft__chat_flush(ft__chat *chat)
{
    ft_tokenizer *t = chat->tokenizer;
    size_t border = chat->border < chat->part.count ? chat->border : chat->part.count, before, i;
    const char *text = chat->part.letters;
    bool first = chat->first;
    if (chat->part.count == 0) return;
    t->ids.count = 0;
    ft__encode_as(t, text, border, first, false);
    before = t->ids.count;
    ft__encode_as(t, text, chat->part.count, first, false);
    for (i = 0; i < before && before + i < t->ids.count; ++i)
        if (t->ids.values[i] != t->ids.values[before + i]) break;
    if (i == before) {
        ft__chat_ids(chat, before, 2 * before, false);
        ft__chat_ids(chat, 2 * before, t->ids.count, true);
    } else {
        ft__chat_ids(chat, 0, before, false);
        t->ids.count = 0;
        ft__encode_as(t, text + border, chat->part.count - border, false, false);
        ft__chat_ids(chat, 0, t->ids.count, true);
    }
    chat->part.count = 0;
    chat->border = FT__NO_BORDER;
}

static void ft__chat_text(ft__chat *chat, const char *text, size_t bytes, bool learnt)
{
    if (learnt && chat->border == FT__NO_BORDER) chat->border = chat->part.count;
    ft__text_add_bytes(&chat->part, text, bytes);
}

static void ft__chat_piece(ft__chat *chat, int id, bool learnt)
{
    ft__chat_flush(chat);
    if (id >= 0) ft__chat_id(chat, id, learnt);
}

/* Without the white space around it. */
static const char *ft__trimmed(const char *text, size_t *bytes)
{
    size_t from = ft__spaces_at(text, *bytes, false);
    *bytes -= from;
    *bytes -= ft__spaces_at(text + from, *bytes, true);
    return text + from;
}

/* ---- Templates ---- */
static void ft__chat_ml(ft__chat *chat, const char *role, const char *content)
{
    bool learnt = !strcmp(role, "assistant");
    ft__chat_piece(chat, chat->open, false);
    ft__chat_text(chat, role, strlen(role), false);
    ft__chat_text(chat, "\n", 1, false);
    ft__chat_text(chat, content, strlen(content), learnt);
    ft__chat_piece(chat, chat->stop, learnt);
    ft__chat_text(chat, "\n", 1, false);
}

static void ft__chat_llama3(ft__chat *chat, const char *role, const char *content)
{
    bool learnt = !strcmp(role, "assistant");
    size_t bytes = strlen(content);
    content = ft__trimmed(content, &bytes);
    if (chat->ids.count == 0) ft__chat_piece(chat, chat->start, false);
    ft__chat_piece(chat, chat->open, false);
    ft__chat_text(chat, role, strlen(role), false);
    ft__chat_piece(chat, chat->close, false);
    ft__chat_text(chat, "\n\n", 2, false);
    ft__chat_text(chat, content, bytes, learnt);
    ft__chat_piece(chat, chat->stop, learnt);
}

/* A mark of the template, which is text if it is no piece. */
static void ft__chat_mark(ft__chat *chat, int id, const char *text)
{
    if (id >= 0) ft__chat_piece(chat, id, false);
    else ft__chat_text(chat, text, strlen(text), false);
}

/* The system's message stands in the user's first. */
static void ft__chat_llama2(ft__chat *chat, const char *role, const char *content)
{
    size_t bytes = strlen(content);
    ft__text *user = &chat->system;
    if (!strcmp(role, "system")) {
        ft__text_add(user, "<<SYS>>\n");
        ft__text_add_bytes(user, content, bytes);
        ft__text_add(user, "\n<</SYS>>\n\n");
    } else if (!strcmp(role, "user")) {
        ft__text_add_bytes(user, content, bytes);
        if (!ft__ok(user->context)) return;
        bytes = user->count;
        content = ft__trimmed(user->letters, &bytes);
        ft__chat_piece(chat, chat->start, false);
        ft__chat_mark(chat, chat->open, "[INST]");
        ft__chat_text(chat, " ", 1, false);
        ft__chat_text(chat, content, bytes, false);
        ft__chat_text(chat, " ", 1, false);
        ft__chat_mark(chat, chat->close, "[/INST]");
        user->count = 0;
    } else {
        content = ft__trimmed(content, &bytes);
        ft__chat_text(chat, " ", 1, true);
        ft__chat_text(chat, content, bytes, true);
        ft__chat_text(chat, " ", 1, true);
        ft__chat_piece(chat, chat->stop, true);
    }
}

typedef struct ft__chat_kind {
    const char *name, *start, *open, *close, *stop; /* NULL: it has no such piece */
    void (*turn)(ft__chat *chat, const char *role, const char *content);
    bool alternates;        /* user and assistant take turns, after one system at most */
} ft__chat_kind;

static const ft__chat_kind ft__chat_kinds[] = { /* by ft_chat_template */
    {"", NULL, NULL, NULL, NULL, NULL, false},
    {"ChatML", NULL, "<|im_start|>", NULL, "<|im_end|>", ft__chat_ml, false},
    {"Llama 3", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
     ft__chat_llama3, false},
    {"Llama 2", "<s>", "[INST]", "[/INST]", "</s>", ft__chat_llama2, true}};

/* The template that a tokeniser's pieces show; FT_CHAT_AUTO if they show none. */
static ft_chat_template ft__chat_shown(const ft_tokenizer *t, const char **by)
{
    static const struct { const char *piece; ft_chat_template kind; } shown[] = {
        {"<|im_start|>", FT_CHAT_ML}, {"<|start_header_id|>", FT_CHAT_LLAMA3},
        {"[INST]", FT_CHAT_LLAMA2}};
    size_t i;
    for (i = 0; i < sizeof shown / sizeof shown[0]; ++i) {
        *by = shown[i].piece;
        if (ft__find_piece(t, *by) >= 0) return shown[i].kind;
    }
    return FT_CHAT_AUTO;
}

/* Finds the pieces of the template; an error if the tokeniser lacks one. */
static ft_status ft__chat_begin(ft__chat *chat, ft_tokenizer *t, ft_chat_template kind)
{
    const ft__chat_kind *k = &ft__chat_kinds[kind];
    const char *const names[] = {k->start, k->open, k->close, k->stop};
    int *const to[] = {&chat->start, &chat->open, &chat->close, &chat->stop};
    ft__context *c = t->ids.context;
    int i;
    memset(chat, 0, sizeof *chat);
    chat->tokenizer = t;
    chat->kind = kind;
    chat->border = FT__NO_BORDER;
    chat->first = true;
    chat->ids.context = chat->learnt.context = chat->part.context = chat->system.context = c;
    for (i = 0; i < 4; ++i) {
        *to[i] = names[i] ? ft__find_piece(t, names[i]) : -1;
        if (names[i] && *to[i] < 0 && names[i][0] == '<') /* others may be text */
            ft__fail(c, FT_INVALID, "the template %s needs the piece %s, which the tokeniser does"
                     " not have", k->name, names[i]);
    }
    return c->status;
}

static void ft__chat_end(ft__chat *chat)
{
    ft__context *c = chat->ids.context;
    ft__release(c, chat->system.letters);
    ft__release(c, chat->part.letters);
    ft__release(c, chat->learnt.letters);
    ft__release(c, chat->ids.values);
}

/* Adds a message; returns what is wrong with it, or NULL. */
static const char *ft__chat_turn(ft__chat *chat, const char *role, const char *content)
{
    const ft__chat_kind *k = &ft__chat_kinds[chat->kind];
    bool system = !strcmp(role, "system");
    if (k->alternates && (system ? chat->turns > 0 || chat->system.count > 0
                          : strcmp(role, chat->turns % 2 ? "assistant" : "user") != 0))
        return "in Llama 2's template user and assistant take turns, after one system at most";
    k->turn(chat, role, content);
    chat->turns += !system;
    return NULL;
}

/* A user's message, and what stands before the answer; an empty one is a message too. */
static void ft__chat_prompt(ft__chat *chat, const char *prompt)
{
    static const char assistant[] = "assistant";
    size_t bytes = sizeof assistant - 1;
    ft__chat_turn(chat, "user", prompt);
    ft__chat_flush(chat);
    if (chat->kind == FT_CHAT_LLAMA2) return;
    ft__chat_piece(chat, chat->open, false);
    ft__chat_text(chat, assistant, bytes, false);
    if (chat->kind == FT_CHAT_LLAMA3) ft__chat_piece(chat, chat->close, false);
    ft__chat_text(chat, "\n\n", chat->kind == FT_CHAT_LLAMA3 ? 2 : 1, false);
    ft__chat_flush(chat);
}

/* Begins the next sample. */
static void ft__chat_next(ft__chat *chat)
{
    chat->ids.count = chat->learnt.count = chat->part.count = chat->system.count = 0;
    chat->border = FT__NO_BORDER;
    chat->first = true;
    chat->turns = 0;
}
