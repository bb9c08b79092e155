#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "text/text_steps.h"
#include "text/tokenizers.h"

/* =============================================================================================
   [SECTION] text/tokenizer_steps: A tokeniser's steps and added pieces
   They are kept as text, in the form of Hugging Face's tokenizer.json, whatever file they come
   from: what is read there, made here, or kept in a model file is read by one function.
   ============================================================================================= */
static void ft__added_one(ft_tokenizer *t, const ft__json *json, int one, int id, const char *path)
{
    ft__context *c = t->ids.context;
    const char *content = ft__json_string(json, ft__json_member(json, one, "content"));
    bool special = ft__json_true(json, ft__json_member(json, one, "special"));
    bool normalized = ft__json_says(json, one, "normalized", !special);
    ft__added *list = &t->added[normalized];
    size_t bytes = content ? strlen(content) : 0;
    int index;
    if (bytes == 0) return; /* as Hugging Face: nothing is found */
    if (normalized) content = ft__normalized(t, content, &bytes, true);
    if (bytes == 0 || !ft__ok(c)) return;
    if (bytes > 255) ft__fail(c, FT_UNSUPPORTED, "%s: added_tokens: %zu bytes of one piece; at most"
                              " 255 are supported", path, bytes);
    if (ft__vocabulary_find(&list->contents, content, bytes) >= 0) return;
    ft__vocabulary_add(&list->contents, content, bytes);
    if (!ft__ok(c)) return;
    index = list->contents.count - 1;
    list->ids[index] = id;
    list->rules[index] = (char)((special ? FT__SPECIAL : 0)
        | (ft__json_says(json, one, "lstrip", false) ? FT__SPACE_LEFT : 0)
        | (ft__json_says(json, one, "rstrip", false) ? FT__SPACE_RIGHT : 0)
        | (ft__json_says(json, one, "single_word", false) ? FT__SINGLE_WORD : 0));
    list->starts[(unsigned char)content[0]] = true;
    list->lengths[bytes] = true;
    if ((int)bytes > list->longest) list->longest = (int)bytes;
}

/* Reads the members normalizer, pre_tokenizer, decoder and added_tokens of the text that
   t->steps becomes. The pieces must be known. */
static void ft__set_steps(ft_tokenizer *t, const char *text, const char *path)
{
    static const struct { char stage; const char *key; } stages[] = {
        {'n', "normalizer"}, {'p', "pre_tokenizer"}, {'d', "decoder"}};
    ft__context *c = t->ids.context;
    ft__json *json = ft__json_parse(c, text, strlen(text));
    int list = json ? ft__json_member(json, 0, "added_tokens") : -1, i;
    int count = json ? ft__json_count(json, list) : 0;
    ft__step_reader r;
    r.context = c;
    r.json = json;
    r.path = path;
    if (!json) ft__fail(c, FT_FORMAT, "%s: damaged tokeniser", path);
    for (i = 0; i < 3 && ft__ok(c); ++i) {
        r.stage = stages[i].stage;
        r.to = i == 0 ? &t->normalizers : i == 1 ? &t->splitters : &t->decoders;
        r.to->count = 0;
        ft__read_steps(&r, ft__json_member(json, 0, stages[i].key));
    }
    for (i = 0; i < 2; ++i) {
        t->added[i].ids = (int *)ft__allocate(c, (size_t)count + 1, sizeof(int));
        t->added[i].rules = (char *)ft__allocate(c, (size_t)count + 1, 1);
    }
    for (i = list + 1; list >= 0 && ft__ok(c) && i < json->values[list].next;
         i = json->values[i].next) {
        int64_t id = -1;
        ft__json_int(json, ft__json_member(json, i, "id"), &id);
        if (id >= 0 && id < t->pieces.count) ft__added_one(t, json, i, (int)id, path);
        else ft__fail(c, FT_FORMAT, "%s: added_tokens: the id of one is not in the vocabulary",
                      path);
    }
    t->steps = ft__ok(c) ? ft__copy_text(c, text) : NULL;
    ft__json_free(c, json);
}

#define FT__FUSE "{\"decoder\":{\"type\":\"Fuse\"}}"
#define FT__LLAMA2C "{\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\" \"}," \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"}," \
    "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1}]}}"

static const char *ft__json_bool(bool is) { return is ? "true" : "false"; }

/* BERT's basic tokeniser: words and WordPiece. */
static void ft__bert_steps(ft_tokenizer *t, bool lower, bool spaces_only)
{
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    ft__text_add(&text, "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":%s},"
                 "\"pre_tokenizer\":{\"type\":\"%s\"}", ft__json_bool(lower),
                 spaces_only ? "WhitespaceSplit" : "BertPreTokenizer");
    if (t->kind == FT_WORDPIECE) {
        ft__text_add(&text, ",\"decoder\":{\"type\":\"WordPiece\",\"cleanup\":false,"
                     "\"prefix\":");
        ft__json_add_text(&text, t->prefix);
        ft__text_add(&text, "}");
    }
    ft__text_add(&text, "}");
    if (ft__ok(t->ids.context)) ft__set_steps(t, text.letters, "(BERT)");
    ft__release(t->ids.context, text.letters);
}

/* GPT-2's words of bytes. */
static void ft__gpt2_steps(ft_tokenizer *t, bool space_first)
{
    char text[160];
    snprintf(text, sizeof text, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\","
             "\"add_prefix_space\":%s},\"decoder\":{\"type\":\"ByteLevel\"}}",
             ft__json_bool(space_first));
    ft__set_steps(t, text, "(GPT-2)");
}
