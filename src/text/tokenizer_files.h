#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "text/unicode.h"
#include "text/text_steps.h"
#include "text/tokenizers.h"
#include "text/tokenizer_steps.h"
#include "text/pairs.h"

/* =============================================================================================
   [SECTION] text/tokenizer_files: Tokeniser files
   Reads the vocabularies of other tools, and keeps a model's own in its file. The content of a file
   tells its kind.
   ============================================================================================= */
static const char *const ft__tokenizer_kinds[] = {"characters", "words", "wordpiece", "byte_bpe",
                                                  "scored_bpe", "bpe"};
enum { FT__TOKENIZER_KINDS = 6 };

static ft_tokenizer *ft__tokenizer_make(ft_model *m, ft_tokenizer_kind kind)
{
    ft__context *c = &m->context;
    ft_tokenizer *t = (ft_tokenizer *)ft__allocate(c, 1, sizeof *t);
    int i;
    if (!t) return NULL;
    t->model = m;
    t->kind = kind;
    t->pieces.context = t->pieces.letters.context = c;
    t->ids.context = t->text.context = t->word.context = t->codes.context = c;
    t->pair_ids.context = t->pair_types.context = c;
    for (i = 0; i < 2; ++i) {
        t->normal[i].text.context = t->words[i].text.context = c;
        t->normal[i].codes = t->words[i].codes = &t->codes;
        t->added[i].contents.context = t->added[i].contents.letters.context = c;
    }
    t->unknown = t->padding = t->begin = t->end = -1;
    t->longest_word = 100;
    if (kind == FT_WORDPIECE) snprintf(t->prefix, sizeof t->prefix, "##");
    return t;
}

static int ft__find_piece(const ft_tokenizer *t, const char *text)
{
    return ft__vocabulary_find(&t->pieces, text, strlen(text));
}

static int ft__first_piece(const ft_tokenizer *t, const char *const *names, int count)
{
    int i, id = -1;
    for (i = 0; i < count && id < 0; ++i) id = ft__find_piece(t, names[i]);
    return id;
}

/* Finds the pieces that represent no text, by their usual names, where the file does not say. The
   unknown piece is shown. */
static void ft__find_special(ft_tokenizer *t)
{
    static const char *const names[] = {
        "[PAD]", "<pad>", "<|finetune_right_pad_id|>", "[CLS]", "<s>", "<bos>", "<|begin_of_text|>",
        "[SEP]", "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "[MASK]", "<mask>"};
    int i, count = (int)(sizeof names / sizeof names[0]);
    if (t->kind == FT_SCORED_BPE || t->kind == FT_CHARACTERS) return;
    if (t->padding < 0) t->padding = ft__first_piece(t, names, 3);
    if (t->begin < 0) t->begin = ft__first_piece(t, names + 3, 4);
    if (t->end < 0) t->end = ft__first_piece(t, names + 7, 5);
    for (i = 0; i < count; ++i) {
        int id = ft__find_piece(t, names[i]);
        if (id >= 0) t->special[id] = 1;
    }
    if (t->unknown >= 0) t->special[t->unknown] = 0;
}

/* Takes the pieces that a tokenizer_config.json names: bos_token, eos_token and pad_token. */
static void ft__name_special(ft_tokenizer *t, const ft__json *json)
{
    const struct { const char *key; int *to; } named[] = {
        {"bos_token", &t->begin}, {"eos_token", &t->end}, {"pad_token", &t->padding}};
    size_t i;
    for (i = 0; i < sizeof named / sizeof named[0]; ++i) {
        int member = ft__json_member(json, 0, named[i].key);
        int content = ft__json_member(json, member, "content");
        const char *piece = ft__json_string(json, content >= 0 ? content : member);
        int id = piece ? ft__find_piece(t, piece) : -1;
        if (id >= 0) *named[i].to = id;
    }
}

/* Ranks of scored BPE: equal scores share a rank, as the left pair then merges first. */
typedef struct ft__by_score { const float *scores; } ft__by_score;

static bool ft__score_less(const void *context, int a, int b)
{
    const float *scores = ((const ft__by_score *)context)->scores;
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
}

static void ft__rank_scores(ft_tokenizer *t)
{
    ft__context *c = t->ids.context;
    int *order = (int *)ft__allocate(c, (size_t)t->pieces.count, sizeof *order), i;
    ft__by_score by;
    t->priority = (int *)ft__allocate(c, (size_t)t->pieces.count, sizeof *t->priority);
    by.scores = t->scores;
    if (order && t->priority) {
        ft__sort_order(order, t->pieces.count, ft__score_less, &by);
        for (i = 1; i < t->pieces.count; ++i)
            t->priority[order[i]] = t->priority[order[i - 1]]
                + (t->scores[order[i]] != t->scores[order[i - 1]]);
    }
    ft__release(c, order);
}

static void ft__find_bytes(ft_tokenizer *t)
{
    int b, count;
    char piece[8];
    for (b = 0; b < 256; ++b) {
        if (t->kind == FT_BYTE_BPE) count = ft__utf8_write(ft__byte_letter(b), piece);
        else count = snprintf(piece, sizeof piece, "<0x%02X>", b);
        t->byte_id[b] = ft__vocabulary_find(&t->pieces, piece, (size_t)count);
        if (t->kind == FT_SCORED_BPE && t->byte_id[b] < 0)
            ft__fail(t->ids.context, FT_FORMAT, "the vocabulary has no piece %s for this byte",
                     piece);
    }
}

/* Checks and completes a tokeniser that has its pieces, and gives it to the model; on an error
   releases it and returns NULL. */
static ft_tokenizer *ft__tokenizer_finish(ft_tokenizer *t, const char *path)
{
    ft__context *c = t->ids.context;
    int id;
    if (ft__ok(c) && t->pieces.count == 0) ft__fail(c, FT_FORMAT, "%s: has no pieces", path);
    for (id = 0; ft__ok(c) && id < t->pieces.count; ++id) {
        size_t bytes = ft__piece_bytes(&t->pieces, id);
        if (bytes > t->longest_piece) t->longest_piece = bytes;
        if (!ft__utf8_valid(ft__piece_text(&t->pieces, id), bytes)
            || strlen(ft__piece_text(&t->pieces, id)) != bytes)
            ft__fail(c, FT_FORMAT, "%s: piece %d is not UTF-8 text", path, id);
    }
    if (ft__ok(c) && (t->kind == FT_WORDPIECE || t->kind == FT_WORDS) && t->unknown < 0)
        ft__fail(c, FT_FORMAT, "%s: has no piece for unknown words", path);
    if (ft__ok(c) && !t->special) t->special = (char *)ft__allocate(c, (size_t)t->pieces.count, 1);
    if (ft__ok(c)) ft__find_special(t);
    if (ft__ok(c)) ft__pair_default(t);
    if (ft__ok(c)) ft__find_bytes(t);
    if (ft__ok(c) && t->kind == FT_SCORED_BPE) ft__rank_scores(t);
    if (!ft__ok(c)) {
        ft__tokenizer_release(t);
        return NULL;
    }
    t->next = t->model->tokenizers;
    t->model->tokenizers = t;
    return t;
}

/* ---- Merges ---- */
static void ft__merges_reserve(ft_tokenizer *t, int most)
{
    size_t slots = 8, i;
    while (slots < 2 * (size_t)most + 2) slots *= 2;
    t->merges = (ft__merge *)ft__allocate(t->ids.context, slots, sizeof *t->merges);
    t->merge_order = (int *)ft__allocate(t->ids.context, 2 * (size_t)most + 1, sizeof(int));
    for (i = 0; t->merges && i < slots; ++i) t->merges[i].result = -1;
    if (t->merges) t->merge_slots = slots;
}

static void ft__merge_add(ft_tokenizer *t, int left, int right, const char *path)
{
    ft__context *c = t->ids.context;
    ft__merge *merge;
    int result;
    if (!ft__ok(c)) return;
    result = left >= 0 && right >= 0 ? ft__joined(t, left, right) : -1;
    if (result < 0) {
        ft__fail(c, FT_FORMAT, "%s: merge %d: its pieces or its result are not in the vocabulary",
                 path, t->merge_count);
        return;
    }
    merge = &t->merges[ft__merge_slot(t, left, right)];
    merge->left = left;
    merge->right = right;
    merge->priority = t->merge_count;
    merge->result = result;
    t->merge_order[2 * t->merge_count] = left;
    t->merge_order[2 * t->merge_count + 1] = right;
    t->merge_count += 1;
}

/* "left right" */
static void ft__merge_add_text(ft_tokenizer *t, const char *text, size_t bytes, const char *path)
{
    const char *space = (const char *)memchr(text, ' ', bytes);
    size_t left = space ? (size_t)(space - text) : 0;
    if (!space) {
        ft__fail(t->ids.context, FT_FORMAT, "%s: merge %d is not two pieces separated by a space",
                 path, t->merge_count);
        return;
    }
    ft__merge_add(t, ft__vocabulary_find(&t->pieces, text, left),
                  ft__vocabulary_find(&t->pieces, space + 1, bytes - left - 1), path);
}

static void ft__read_merges(ft_tokenizer *t, const char *text, size_t bytes, const char *path)
{
    const char *line;
    size_t at = 0, count;
    int lines = 0;
    while (ft__next_line(text, bytes, &at, &line, &count)) lines += 1;
    ft__merges_reserve(t, lines);
    for (at = 0; ft__next_line(text, bytes, &at, &line, &count) && ft__ok(t->ids.context);) {
        if (count >= 8 && memcmp(line, "#version", 8) == 0) continue;
        if (count > 0) ft__merge_add_text(t, line, count, path);
    }
}

/* ---- vocab.txt, vocab.json, a list of characters, tok512.bin ---- */
static void ft__read_vocab_lines(ft_tokenizer *t, const char *text, size_t bytes)
{
    const char *line;
    size_t at = 0, count;
    while (ft__next_line(text, bytes, &at, &line, &count) && ft__ok(t->ids.context)) {
        while (count > 0 && (line[count - 1] == ' ' || line[count - 1] == '\t')) count -= 1;
        ft__vocabulary_add(&t->pieces, line, count);
    }
    t->unknown = ft__find_piece(t, "[UNK]");
    t->before[0] = ft__find_piece(t, "[CLS]");
    t->before_count = t->before[0] >= 0;
    t->after[0] = ft__find_piece(t, "[SEP]");
    t->after_count = t->after[0] >= 0;
}

static void ft__read_characters(ft_tokenizer *t, const ft__json *json, const char *path)
{
    int i;
    for (i = 1; i < json->values[0].next && ft__ok(t->ids.context); i = json->values[i].next) {
        const char *piece = ft__json_string(json, i);
        int taken = 0;
        if (piece && *piece) ft__utf8_read(piece, strlen(piece), &taken);
        if (!piece || !*piece || (piece[taken] && piece[0] != '<'))
            ft__fail(t->ids.context, FT_FORMAT, "%s: entry %d is not one character", path,
                     t->pieces.count);
        else ft__vocabulary_add(&t->pieces, piece, strlen(piece));
    }
    t->unknown = ft__find_piece(t, "<unk>");
}

/* Sets value_of[id] to the value with the piece of that id: {"piece": id, ...} or, with `listed`,
   [{"id": id, "content": "piece"}, ...]. value_of may be NULL. Returns the largest id, -1 if there
   is none, -2 if there is something else. */
static int64_t ft__ids_in_json(const ft__json *json, int from, bool listed, int *value_of)
{
    int64_t largest = -1, id;
    int i;
    for (i = from + 1; from >= 0 && i < json->values[from].next; i = json->values[i].next) {
        int value = listed ? ft__json_member(json, i, "id") : i;
        if (!ft__json_int(json, value, &id) || id < 0) return -2;
        if (id > largest) largest = id;
        if (value_of) value_of[id] = i;
    }
    return largest;
}

static void ft__read_vocab_json(ft_tokenizer *t, const ft__json *json, int vocab, int added,
                                const char *path)
{
    ft__context *c = t->ids.context;
    int64_t most = ft__ids_in_json(json, vocab, false, NULL);
    int64_t most_added = ft__ids_in_json(json, added, true, NULL), id;
    int64_t members = ft__json_count(json, vocab) + ft__json_count(json, added);
    bool wrong = most == -2 || most_added == -2; /* in one of the two is something else */
    int *value_of;
    if (most_added > most) most = most_added;
    if (!ft__json_at(json, vocab, 'o') || wrong || most < 0
        || most > 2 * members + 1024) {
        ft__fail(c, FT_FORMAT, "%s: a vocabulary must be {\"piece\": id, ...} with ids from 0",
                 path);
        return;
    }
    value_of = (int *)ft__allocate(c, (size_t)most + 1, sizeof *value_of);
    t->special = (char *)ft__allocate(c, (size_t)most + 1, 1);
    if (ft__ok(c)) {
        ft__ids_in_json(json, vocab, false, value_of);
        ft__ids_in_json(json, added, true, value_of);
    }
    for (id = 0; ft__ok(c) && id <= most; ++id) {
        const ft__json_value *v = &json->values[value_of[id]]; /* 0 is the root: no such id */
        const char *piece = value_of[id] ? v->key : "";
        if (v->kind == 'o' && value_of[id]) {
            piece = ft__json_string(json, ft__json_member(json, value_of[id], "content"));
            t->special[id] = ft__json_true(json, ft__json_member(json, value_of[id], "special"));
        }
        ft__vocabulary_add(&t->pieces, piece ? piece : "", piece ? strlen(piece) : 0);
    }
    ft__release(c, value_of);
}

static int32_t ft__little_int(const unsigned char *at)
{
    return (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16
                     | (uint32_t)at[3] << 24);
}

/* The file: int32 longest piece, then per piece: float32 score, int32 bytes, the bytes. Returns the
   number of pieces, or -1 if it is another file. With `t`, reads them into it. */
static int ft__read_scored(ft_tokenizer *t, const unsigned char *file, size_t bytes)
{
    size_t at = 4;
    int count = 0;
    if (bytes < 12 || ft__little_int(file) < 1 || ft__little_int(file) > 1 << 16) return -1;
    for (; at < bytes; ++count) {
        int32_t length;
        uint32_t bits;
        if (bytes - at < 8) return -1;
        length = ft__little_int(file + at + 4);
        if (length < 0 || length > 1 << 16 || (size_t)length > bytes - at - 8) return -1;
        if (t) {
            bits = (uint32_t)ft__little_int(file + at);
            memcpy(&t->scores[count], &bits, sizeof bits);
            if (!(fabs((double)t->scores[count]) < 1e30))
                ft__fail(t->ids.context, FT_FORMAT, "piece %d: its score is not a number", count);
            ft__vocabulary_add(&t->pieces, (const char *)file + at + 8, (size_t)length);
        }
        at += 8 + (size_t)length;
    }
    return count;
}

static ft_tokenizer *ft__load_scored(ft_model *m, const unsigned char *file, size_t bytes)
{
    int count = ft__read_scored(NULL, file, bytes);
    ft_tokenizer *t = ft__tokenizer_make(m, FT_SCORED_BPE);
    if (!t) return NULL;
    t->scores = (float *)ft__allocate(&m->context, (size_t)count, sizeof *t->scores);
    t->special = (char *)ft__allocate(&m->context, (size_t)count + 3, 1);
    if (!ft__usable(m)) return t;
    ft__read_scored(t, file, bytes);
    memset(t->special + 1, 1, 2);
    t->unknown = 0;
    t->begin = 1;
    t->end = 2;
    t->before[t->before_count++] = t->begin;
    t->byte_fallback = true;
    ft__set_steps(t, FT__LLAMA2C, "llama2.c");
    return t;
}

/* ---- Hugging Face's tokenizer.json ---- */

static void ft__read_around(ft_tokenizer *t, const ft__json *json, int part)
{
    int list = ft__json_member(json, part, "single"), i;
    int cls = ft__json_member(json, part, "cls"), sep = ft__json_member(json, part, "sep");
    const char *first = ft__json_string(json, ft__json_element(json, cls, 0));
    const char *last = ft__json_string(json, ft__json_element(json, sep, 0));
    bool behind = false;
    if (first) t->before[t->before_count++] = ft__find_piece(t, first);
    if (last) t->after[t->after_count++] = ft__find_piece(t, last);
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        int special = ft__json_member(json, i, "SpecialToken"), *count;
        const char *name = ft__json_string(json, ft__json_member(json, special, "id"));
        behind = behind || ft__json_member(json, i, "Sequence") >= 0;
        count = behind ? &t->after_count : &t->before_count;
        if (!name) continue;
        if (*count < FT__MOST_AROUND)
            (behind ? t->after : t->before)[(*count)++] = ft__find_piece(t, name);
    }
    for (i = 0; i < t->before_count; ++i)
        if (t->before[i] < 0) t->before_count = 0;
    for (i = 0; i < t->after_count; ++i)
        if (t->after[i] < 0) t->after_count = 0;
}

static void ft__read_hf_wordpiece(ft_tokenizer *t, const ft__json *json, int model)
{
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    const char *prefix = ft__json_string(json, ft__json_member(json, model,
                                                               "continuing_subword_prefix"));
    int64_t longest = 100;
    ft__json_int(json, ft__json_member(json, model, "max_input_chars_per_word"), &longest);
    t->longest_word = longest < 1 ? 1 : longest > 1 << 20 ? 1 << 20 : (int)longest;
    if (prefix) snprintf(t->prefix, sizeof t->prefix, "%s", prefix);
    t->unknown = ft__find_piece(t, unknown ? unknown : "[UNK]");
}

static void ft__read_hf_bpe(ft_tokenizer *t, const ft__json *json, int model, const char *path)
{
    int merges = ft__json_member(json, model, "merges"), i;
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    if (unknown) t->unknown = ft__find_piece(t, unknown);
    t->byte_fallback = ft__json_says(json, model, "byte_fallback", false);
    t->fuse_unknown = ft__json_says(json, model, "fuse_unk", false);
    t->whole_words = ft__json_says(json, model, "ignore_merges", false);
    ft__merges_reserve(t, ft__json_count(json, merges));
    for (i = merges + 1; merges >= 0 && i < json->values[merges].next && ft__ok(t->ids.context);
         i = json->values[i].next) {
        const char *text = ft__json_string(json, i);
        const char *left = ft__json_string(json, ft__json_element(json, i, 0));
        const char *right = ft__json_string(json, ft__json_element(json, i, 1));
        if (text) ft__merge_add_text(t, text, strlen(text), path);
        else ft__merge_add(t, left ? ft__find_piece(t, left) : -1,
                           right ? ft__find_piece(t, right) : -1, path);
    }
}

/* Reads what is put around a text; `part` is a post_processor, or a Sequence of them. */
static void ft__read_post_processor(ft_tokenizer *t, const ft__json *json, int part,
                                    const char *path)
{
    static const char *const known[] = {"ByteLevel", "BertProcessing", "RobertaProcessing",
                                        "TemplateProcessing"};
    const char *type = ft__json_string(json, ft__json_member(json, part, "type"));
    int list = ft__json_member(json, part, "processors"), i = 0;
    if (part < 0 || ft__json_at(json, part, '0') || !ft__ok(t->ids.context)) return;
    if (type && !strcmp(type, "Sequence")) {
        for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next)
            ft__read_post_processor(t, json, i, path);
        return;
    }
    while (type && i < 4 && strcmp(type, known[i]) != 0) ++i;
    if (!type || i == 4)
        ft__fail(t->ids.context, FT_UNSUPPORTED, "%s: the post_processor %s is not supported", path,
                 type ? type : "without a type");
    else if (i > 0) {
        ft__read_around(t, json, part);
        ft__pair_read(t, json, part);
    }
}

/* What changes ids in a model and is not implemented. */
static void ft__check_hf_model(ft__context *c, const ft__json *json, int model, const char *type,
                               const char *path)
{
    static const char known[] = "type,dropout,unk_token,continuing_subword_prefix,fuse_unk,"
        "end_of_word_suffix,byte_fallback,ignore_merges,vocab,merges,max_input_chars_per_word";
    bool pieces = !strcmp(type, "WordPiece");
    int i;
    for (i = model + 1; i < json->values[model].next; i = json->values[i].next) {
        const char *key = json->values[i].key, *text = ft__json_string(json, i);
        double number = 0;
        bool none = ft__json_at(json, i, '0') || (text && !*text)
            || (ft__json_double(json, i, &number) && number == 0);
        if (!ft__glob(known, key) || (!none && (!strcmp(key, "dropout")
            || !strcmp(key, "end_of_word_suffix")
            || (!pieces && !strcmp(key, "continuing_subword_prefix")))))
            ft__fail(c, FT_UNSUPPORTED, "%s: the model %s: \"%s\" is not supported", path, type,
                     key);
    }
}

/* The kind of a model; fails for others. */
static ft_tokenizer_kind ft__hf_kind(ft__context *c, const char *type,
                                     const ft__text_steps *splitters, const char *path)
{
    int last = splitters->count - 1, i, bytes = -1;
    for (i = 0; i <= last; ++i)
        if (splitters->list[i].kind->apply == ft__step_byte_level) bytes = i;
    if (bytes >= 0 && (bytes != last || strcmp(type, "BPE") != 0))
        ft__fail(c, FT_UNSUPPORTED, "%s: the pre_tokenizer ByteLevel must be the last one, and the"
                 " model BPE", path);
    if (!strcmp(type, "BPE")) return bytes >= 0 ? FT_BYTE_BPE : FT_BPE;
    if (!strcmp(type, "WordPiece")) return FT_WORDPIECE;
    if (strcmp(type, "WordLevel") != 0)
        ft__fail(c, FT_UNSUPPORTED, "%s: the model %s is not supported; expected BPE, WordPiece, or"
                 " WordLevel", path, type);
    return FT_WORDS;
}

/* The members that are steps, and the added pieces, for ft__set_steps. Without a decoder, that of
   the kind. */
static void ft__hf_steps(ft_tokenizer *t, const ft__json *json, const char *path)
{
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "decoder", "added_tokens"};
    ft__text text;
    int i;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    for (i = 0; i < 4; ++i) {
        int member = ft__json_member(json, 0, keys[i]);
        ft__text_add(&text, "%s\"%s\":", i ? "," : "{", keys[i]);
        if (member >= 0 && !(i == 2 && ft__json_at(json, member, '0')))
            ft__json_add_value(&text, json, member);
        else if (i == 2 && t->kind == FT_BYTE_BPE)
            ft__text_add(&text, "{\"type\":\"ByteLevel\"}");
        else if (i == 2 && t->kind == FT_WORDPIECE) {
            ft__text_add(&text, "{\"type\":\"WordPiece\",\"cleanup\":false,\"prefix\":");
            ft__json_add_text(&text, t->prefix);
            ft__text_add(&text, "}");
        } else ft__text_add(&text, "null");
    }
    ft__text_add(&text, "}");
    if (ft__ok(t->ids.context)) ft__set_steps(t, text.letters, path);
    ft__release(t->ids.context, text.letters);
}

static ft_tokenizer *ft__load_hf(ft_model *m, const ft__json *json, const char *path)
{
    ft__context *c = &m->context;
    int model = ft__json_member(json, 0, "model");
    const char *type = ft__json_string(json, ft__json_member(json, model, "type"));
    ft_tokenizer_kind kind;
    ft__text_steps splitters;
    ft__step_reader r;
    ft_tokenizer *t;
    memset(&splitters, 0, sizeof splitters);
    r.context = c;
    r.json = json;
    r.path = path;
    r.stage = 'p';
    r.to = &splitters;
    if (!type) type = ft__json_member(json, model, "merges") >= 0 ? "BPE" : "WordPiece";
    ft__read_steps(&r, ft__json_member(json, 0, "pre_tokenizer"));
    kind = ft__hf_kind(c, type, &splitters, path);
    if (ft__ok(c) && ft__json_at(json, model, 'o')) ft__check_hf_model(c, json, model, type, path);
    t = ft__ok(c) ? ft__tokenizer_make(m, kind) : NULL;
    if (!t) return NULL;
    ft__read_vocab_json(t, json, ft__json_member(json, model, "vocab"),
                        ft__json_member(json, 0, "added_tokens"), path);
    if (!ft__ok(c)) return t;
    if (kind == FT_WORDPIECE || kind == FT_WORDS) ft__read_hf_wordpiece(t, json, model);
    else ft__read_hf_bpe(t, json, model, path);
    ft__hf_steps(t, json, path);
    ft__read_post_processor(t, json, ft__json_member(json, 0, "post_processor"), path);
    return t;
}

/* ---- The model file's own form ---- */
/* As JSON; released by the caller. NULL with an error. */
static char *ft__tokenizer_text(const ft_tokenizer *t)
{
    ft__text text;
    int id, specials = 0;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    ft__text_add(&text, "{\"kind\":\"%s\",\"longest_word\":%d,\"byte_fallback\":%d,"
                 "\"fuse_unknown\":%d,\"whole_words\":%d,\"unknown\":%d,\"begin\":%d,"
                 "\"end\":%d,\"prefix\":", ft__tokenizer_kinds[t->kind], t->longest_word,
                 t->byte_fallback, t->fuse_unknown, t->whole_words, t->unknown, t->begin, t->end);
    ft__json_add_text(&text, t->prefix);
    ft__text_add(&text, ",\"steps\":");
    ft__text_add_bytes(&text, t->steps, strlen(t->steps));
    ft__json_add_ints(&text, "before", t->before, t->before_count);
    ft__json_add_ints(&text, "after", t->after, t->after_count);
    ft__pair_write(t, &text);
    ft__text_add(&text, ",\"special\":[");
    for (id = 0; id < t->pieces.count; ++id) {
        if (!t->special[id]) continue;
        ft__text_add(&text, "%s%d", specials++ ? "," : "", id);
    }
    ft__text_add(&text, "],\"pieces\":[");
    for (id = 0; id < t->pieces.count && ft__ok(t->ids.context); ++id) {
        if (id) ft__text_add(&text, ",");
        ft__json_add_text(&text, ft__piece_text(&t->pieces, id));
    }
    ft__text_add(&text, "]");
    ft__json_add_ints(&text, "merges", t->merge_order, 2 * t->merge_count);
    if (t->scores) ft__text_add(&text, ",\"scores\":[");
    for (id = 0; t->scores && id < t->pieces.count; ++id) {
        if (id) ft__text_add(&text, ",");
        ft__json_add_float(&text, t->scores[id]);
    }
    ft__text_add(&text, t->scores ? "]}" : "}");
    if (ft__ok(t->ids.context)) return text.letters;
    ft__release(t->ids.context, text.letters);
    return NULL;
}

/* An integer of the root within [least, most]; an error otherwise. */
static int ft__own_number(ft_tokenizer *t, const ft__json *json, int value, int least, int most,
                          const char *path)
{
    int64_t number = INT64_MIN;
    ft__json_int(json, value, &number);
    if (number >= least && number <= most) return (int)number;
    ft__fail(t->ids.context, FT_FORMAT, "%s: damaged tokeniser", path);
    return least;
}

static int ft__own_ids(ft_tokenizer *t, const ft__json *json, const char *key, int *to, int most,
                       const char *path)
{
    int list = ft__json_member(json, 0, key), count = 0, i;
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        int id = ft__own_number(t, json, i, 0, t->pieces.count - 1, path);
        if (count < most && ft__ok(t->ids.context)) to[count++] = id;
    }
    return count;
}

static void ft__own_options(ft_tokenizer *t, const ft__json *json, const char *path)
{
    const char *prefix = ft__json_string(json, ft__json_member(json, 0, "prefix"));
    int last = t->pieces.count - 1;
    const struct { const char *key; bool *to; } switches[] = {
        {"byte_fallback", &t->byte_fallback}, {"fuse_unknown", &t->fuse_unknown},
        {"whole_words", &t->whole_words}};
    size_t i;
    for (i = 0; i < sizeof switches / sizeof switches[0]; ++i) {
        int member = ft__json_member(json, 0, switches[i].key);
        *switches[i].to = member >= 0 && ft__own_number(t, json, member, 0, 1, path) == 1;
    }
    snprintf(t->prefix, sizeof t->prefix, "%s", prefix ? prefix : "");
    t->longest_word = ft__own_number(t, json, ft__json_member(json, 0, "longest_word"), 1, 1 << 20,
                                     path);
    t->unknown = ft__own_number(t, json, ft__json_member(json, 0, "unknown"), -1, last, path);
    t->begin = ft__own_number(t, json, ft__json_member(json, 0, "begin"), -1, last, path);
    t->end = ft__own_number(t, json, ft__json_member(json, 0, "end"), -1, last, path);
    t->before_count = ft__own_ids(t, json, "before", t->before, FT__MOST_AROUND, path);
    t->after_count = ft__own_ids(t, json, "after", t->after, FT__MOST_AROUND, path);
    ft__pair_own(t, json, path);
}

static void ft__own_lists(ft_tokenizer *t, const ft__json *json, const char *path)
{
    ft__context *c = t->ids.context;
    int scores = ft__json_member(json, 0, "scores"), merges = ft__json_member(json, 0, "merges");
    int count = ft__json_count(json, merges), i, n, *ids;
    ids = (int *)ft__allocate(c, (size_t)(count > t->pieces.count ? count : t->pieces.count),
                              sizeof *ids);
    t->special = (char *)ft__allocate(c, (size_t)t->pieces.count, 1);
    if (t->special && ids) {
        n = ft__own_ids(t, json, "special", ids, t->pieces.count, path);
        for (i = 0; i < n; ++i) t->special[ids[i]] = 1;
        n = ft__own_ids(t, json, "merges", ids, count, path);
        if (n > 1) ft__merges_reserve(t, n / 2);
        for (i = 0; i + 1 < n; i += 2) ft__merge_add(t, ids[i], ids[i + 1], path);
    }
    ft__release(c, ids);
    if (t->kind != FT_SCORED_BPE) return;
    t->scores = (float *)ft__allocate(c, (size_t)t->pieces.count, sizeof *t->scores);
    for (i = scores + 1, n = 0; t->scores && scores >= 0 && i < json->values[scores].next
         && n < t->pieces.count; i = json->values[i].next) {
        double score = 0;
        ft__json_double(json, i, &score);
        t->scores[n++] = (float)score;
    }
}

/* Older files have switches instead of steps. */
static void ft__own_steps(ft_tokenizer *t, const ft__json *json, const char *path)
{
    int steps = ft__json_member(json, 0, "steps");
    int64_t lower = 0, spaces = 0;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    if (ft__json_at(json, steps, 'o')) {
        ft__json_add_value(&text, json, steps);
        if (ft__ok(t->ids.context)) ft__set_steps(t, text.letters, path);
        ft__release(t->ids.context, text.letters);
        return;
    }
    ft__json_int(json, ft__json_member(json, 0, "lower"), &lower);
    ft__json_int(json, ft__json_member(json, 0, "spaces_only"), &spaces);
    t->byte_fallback = t->kind == FT_SCORED_BPE;
    if (t->kind == FT_SCORED_BPE) ft__set_steps(t, FT__LLAMA2C, path);
    else if (t->kind == FT_CHARACTERS) ft__set_steps(t, FT__FUSE, path);
    else if (t->kind != FT_BYTE_BPE) ft__bert_steps(t, lower == 1, spaces == 1);
    else {
        ft__json_int(json, ft__json_member(json, 0, "space_first"), &spaces);
        ft__gpt2_steps(t, spaces == 1);
    }
}

static ft_tokenizer *ft__load_own(ft_model *m, const ft__json *json, const char *path)
{
    const char *kind = ft__json_string(json, ft__json_member(json, 0, "kind"));
    int pieces = ft__json_member(json, 0, "pieces"), k = 0, i;
    ft_tokenizer *t;
    while (kind && k < FT__TOKENIZER_KINDS && strcmp(kind, ft__tokenizer_kinds[k]) != 0) ++k;
    if (!kind || k == FT__TOKENIZER_KINDS) {
        ft__fail(&m->context, FT_FORMAT, "%s: unknown kind of tokeniser", path);
        return NULL;
    }
    t = ft__tokenizer_make(m, (ft_tokenizer_kind)k);
    if (!t) return NULL;
    for (i = pieces + 1; pieces >= 0 && i < json->values[pieces].next && ft__ok(&m->context);
         i = json->values[i].next) {
        const char *piece = ft__json_string(json, i);
        if (piece) ft__vocabulary_add(&t->pieces, piece, strlen(piece));
        else ft__fail(&m->context, FT_FORMAT, "%s: a piece is not text", path);
    }
    if (ft__ok(&m->context)) ft__own_options(t, json, path);
    if (ft__ok(&m->context)) ft__own_lists(t, json, path);
    if (ft__ok(&m->context)) ft__own_steps(t, json, path);
    return t;
}

/* ---- Any file ---- */

/* merges.txt beside vocab.json: the last "vocab.json" of the path becomes "merges.txt". */
static void ft__read_merges_beside(ft_tokenizer *t, const char *path,
                                   const ft_tokenizer_options *options)
{
    ft__context *c = t->ids.context;
    const char *merges = options->merges;
    ft__text beside;
    unsigned char *content;
    size_t bytes;
    if (options->merges_memory) {
        ft__read_merges(t, (const char *)options->merges_memory, options->merges_bytes, "merges");
        return;
    }
    memset(&beside, 0, sizeof beside);
    beside.context = c;
    if (!merges && ft__ends_with(path, "vocab.json")) {
        ft__text_add_bytes(&beside, path, strlen(path) - strlen("vocab.json"));
        ft__text_add_bytes(&beside, "merges.txt", strlen("merges.txt"));
        merges = beside.letters;
    }
    if (!merges) ft__fail(c, FT_INVALID, "%s: a BPE vocabulary needs its merges.txt", path);
    content = ft__ok(c) ? ft__read_file(c, merges, &bytes) : NULL;
    if (content) ft__read_merges(t, (const char *)content, bytes, merges);
    ft__release(c, content);
    ft__release(c, beside.letters);
}

static ft_tokenizer *ft__load_json_tokenizer(ft_model *m, const ft__json *json, const char *path,
                                             const ft_tokenizer_options *options)
{
    ft_tokenizer *t;
    if (ft__json_at(json, 0, 'a')) {
        t = ft__tokenizer_make(m, FT_CHARACTERS);
        if (t) ft__read_characters(t, json, path);
        if (t && ft__ok(&m->context)) ft__set_steps(t, FT__FUSE, path);
        return t;
    }
    if (ft__json_member(json, 0, "model") >= 0) return ft__load_hf(m, json, path);
    if (ft__json_string(json, ft__json_member(json, 0, "kind"))) return ft__load_own(m, json, path);
    t = ft__tokenizer_make(m, FT_BYTE_BPE);
    if (t) ft__read_vocab_json(t, json, 0, -1, path);
    if (t && ft__ok(&m->context)) ft__read_merges_beside(t, path, options);
    if (t && ft__ok(&m->context)) ft__gpt2_steps(t, false);
    return t;
}

static ft_tokenizer *ft__tokenizer_read(ft_model *m, const unsigned char *file, size_t bytes,
                                        const char *path, const ft_tokenizer_options *options)
{
    ft__json *json = NULL;
    ft_tokenizer *t = NULL;
    if (bytes > 0 && (file[0] == '{' || file[0] == '['))
        json = ft__json_parse(&m->context, (const char *)file, bytes);
    if (json) t = ft__load_json_tokenizer(m, json, path, options);
    else if (ft__read_scored(NULL, file, bytes) > 0) t = ft__load_scored(m, file, bytes);
    else if ((t = ft__tokenizer_make(m, FT_WORDPIECE)) != NULL) {
        ft__read_vocab_lines(t, (const char *)file, bytes);
        if (ft__ok(&m->context) && t->unknown < 0)
            ft__fail(&m->context, FT_FORMAT, "%s: neither JSON, nor a vocab.txt with a line [UNK],"
                     " nor a tokenizer.bin", path);
        if (ft__ok(&m->context)) ft__bert_steps(t, !options->cased, false);
    }
    ft__json_free(&m->context, json);
    return t ? ft__tokenizer_finish(t, path) : NULL;
}

ft_tokenizer *ft_tokenizer_load(ft_model *m, const char *path, ft_tokenizer_options options)
{
    ft__context *c;
    unsigned char *content;
    ft_tokenizer *t;
    size_t bytes;
    if (!ft__usable(m) || !FT__HAS(m, TEXT)) return NULL;
    c = &m->context;
    if (!options.memory && !ft__given(c, path, "ft_tokenizer_load: the path")) return NULL;
    if (!path) path = "(memory)";
    if (options.memory)
        return ft__tokenizer_read(m, (const unsigned char *)options.memory, options.bytes, path,
                                  &options);
    content = ft__read_file(c, path, &bytes);
    t = content ? ft__tokenizer_read(m, content, bytes, path, &options) : NULL;
    ft__release(c, content);
    return t;
}
