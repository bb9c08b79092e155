#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "text/unicode.h"
#include "text/tokenizers.h"

/* =============================================================================================
   [SECTION] text/tokenizer_files: Tokeniser files
   Reads the vocabularies of other tools, builds one from texts, and keeps a model's own in its
   file. The content of a file tells its kind.
   ============================================================================================= */
static const char *const ft__tokenizer_kinds[] = {"characters", "words", "wordpiece", "byte_bpe",
                                                  "scored_bpe"};
enum { FT__TOKENIZER_KINDS = 5 };

static ft_tokenizer *ft__tokenizer_make(ft_model *m, ft_tokenizer_kind kind)
{
    ft__context *c = &m->context;
    ft_tokenizer *t = (ft_tokenizer *)ft__allocate(c, 1, sizeof *t);
    if (!t) return NULL;
    t->model = m;
    t->kind = kind;
    t->pieces.context = t->pieces.letters.context = c;
    t->ids.context = t->text.context = t->word.context = c;
    t->unknown = t->padding = t->begin = t->end = -1;
    t->longest_word = 100;
    if (kind == FT_WORDPIECE) snprintf(t->prefix, sizeof t->prefix, "##");
    t->lower = t->strip_accents = t->split_ideographs = t->clean = true;
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

/* Finds the pieces that represent no text, by their usual names. The unknown piece is shown. */
static void ft__find_special(ft_tokenizer *t)
{
    static const char *const names[] = {"[PAD]", "<pad>", "[CLS]", "[SEP]", "[MASK]", "<mask>",
                                        "<s>", "</s>", "<eos>", "<|endoftext|>"};
    int i, count = (int)(sizeof names / sizeof names[0]);
    if (t->kind == FT_SCORED_BPE || t->kind == FT_CHARACTERS) return;
    t->padding = ft__first_piece(t, names, 2);
    t->begin = ft__first_piece(t, names + 2, 1);
    if (t->begin < 0) t->begin = ft__find_piece(t, "<s>");
    t->end = ft__find_piece(t, "[SEP]");
    if (t->end < 0) t->end = ft__first_piece(t, names + 7, 3);
    for (i = 0; i < count; ++i) {
        int id = ft__find_piece(t, names[i]);
        if (id >= 0) t->special[id] = 1;
    }
    if (t->unknown >= 0) t->special[t->unknown] = 0;
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
        if (t->kind == FT_SCORED_BPE) count = snprintf(piece, sizeof piece, "<0x%02X>", b);
        else count = ft__utf8_write(ft__byte_letter(b), piece);
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
    if (ft__ok(c) && (t->kind == FT_BYTE_BPE || t->kind == FT_SCORED_BPE)) ft__find_bytes(t);
    if (ft__ok(c) && t->kind == FT_SCORED_BPE) ft__rank_scores(t);
    if (!ft__ok(c)) {
        ft__tokenizer_release(t);
        return NULL;
    }
    t->next = t->model->tokenizers;
    t->model->tokenizers = t;
    return t;
}

/* ---- Merges of byte BPE ---- */
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
    t->space_first = true;
    return t;
}

/* ---- Hugging Face's tokenizer.json ---- */

/* Is the member `key` of the root of this type? If absent or null it is of type "". */
static bool ft__part_is(const ft__json *json, const char *key, const char *type)
{
    int part = ft__json_member(json, 0, key);
    const char *is = ft__json_string(json, ft__json_member(json, part, "type"));
    return strcmp(is ? is : "", type) == 0;
}

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

static bool ft__json_says(const ft__json *json, int object, const char *key, bool otherwise)
{
    int value = ft__json_member(json, object, key);
    if (ft__json_at(json, value, 't')) return true;
    return ft__json_at(json, value, 'f') ? false : otherwise;
}

static void ft__read_hf_wordpiece(ft_tokenizer *t, const ft__json *json, int model)
{
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    const char *prefix = ft__json_string(json, ft__json_member(json, model,
                                                               "continuing_subword_prefix"));
    int normalizer = ft__json_member(json, 0, "normalizer");
    int64_t longest = 100;
    ft__json_int(json, ft__json_member(json, model, "max_input_chars_per_word"), &longest);
    t->longest_word = longest < 1 ? 1 : longest > 1 << 20 ? 1 << 20 : (int)longest;
    if (prefix) snprintf(t->prefix, sizeof t->prefix, "%s", prefix);
    t->unknown = ft__find_piece(t, unknown ? unknown : "[UNK]");
    t->lower = ft__json_says(json, normalizer, "lowercase", true);
    t->strip_accents = ft__json_says(json, normalizer, "strip_accents", t->lower);
    t->clean = ft__json_says(json, normalizer, "clean_text", true);
    t->split_ideographs = ft__json_says(json, normalizer, "handle_chinese_chars", true);
}

static void ft__read_hf_bpe(ft_tokenizer *t, const ft__json *json, int model, const char *path)
{
    int merges = ft__json_member(json, model, "merges"), i;
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    if (unknown) t->unknown = ft__find_piece(t, unknown);
    t->space_first = ft__json_says(json, ft__json_member(json, 0, "pre_tokenizer"),
                                   "add_prefix_space", true);
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

static bool ft__known_post_processor(const ft__json *json)
{
    static const char *const known[] = {"", "ByteLevel", "BertProcessing", "RobertaProcessing",
                                        "TemplateProcessing"};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; ++i)
        if (ft__part_is(json, "post_processor", known[i])) return true;
    return false;
}

static ft_tokenizer *ft__load_hf(ft_model *m, const ft__json *json, const char *path)
{
    ft__context *c = &m->context;
    int model = ft__json_member(json, 0, "model");
    int before = ft__json_member(json, 0, "pre_tokenizer");
    bool words = ft__part_is(json, "pre_tokenizer", "BertPreTokenizer")
        && ft__part_is(json, "normalizer", "BertNormalizer");
    bool bytes = ft__part_is(json, "pre_tokenizer", "ByteLevel")
        && ft__part_is(json, "normalizer", "") && ft__json_says(json, before, "use_regex", true);
    const char *type = ft__json_string(json, ft__json_member(json, model, "type"));
    ft_tokenizer *t;
    if (!type) type = ft__json_member(json, model, "merges") >= 0 ? "BPE" : "WordPiece";
    if (!(words && !strcmp(type, "WordPiece")) && !(bytes && !strcmp(type, "BPE"))) {
        ft__fail(c, FT_UNSUPPORTED, "%s: expected a tokenizer.json of WordPiece with BERT's"
                 " normaliser, or of BPE on bytes with GPT-2's pattern, not this %s", path, type);
        return NULL;
    }
    if (!ft__known_post_processor(json)) {
        ft__fail(c, FT_UNSUPPORTED, "%s: this post_processor is not supported", path);
        return NULL;
    }
    t = ft__tokenizer_make(m, words ? FT_WORDPIECE : FT_BYTE_BPE);
    if (!t) return NULL;
    ft__read_vocab_json(t, json, ft__json_member(json, model, "vocab"),
                        ft__json_member(json, 0, "added_tokens"), path);
    if (!ft__ok(c)) return t;
    if (words) ft__read_hf_wordpiece(t, json, model);
    else ft__read_hf_bpe(t, json, model, path);
    ft__read_around(t, json, ft__json_member(json, 0, "post_processor"));
    return t;
}

/* ---- The model file's own form ---- */
static void ft__write_ids(ft__text *text, const char *key, const int *ids, int count)
{
    int i;
    ft__text_add(text, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) ft__text_add(text, "%s%d", i ? "," : "", ids[i]);
    ft__text_add(text, "]");
}

/* As JSON; released by the caller. NULL with an error. */
static char *ft__tokenizer_text(const ft_tokenizer *t)
{
    ft__text text;
    int id, specials = 0;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    ft__text_add(&text, "{\"kind\":\"%s\",\"lower\":%d,\"strip_accents\":%d,"
                 "\"split_ideographs\":%d,\"clean\":%d,\"spaces_only\":%d,\"longest_word\":%d,"
                 "\"space_first\":%d,\"unknown\":%d,\"begin\":%d,\"end\":%d,\"prefix\":",
                 ft__tokenizer_kinds[t->kind], t->lower, t->strip_accents, t->split_ideographs,
                 t->clean, t->spaces_only, t->longest_word, t->space_first, t->unknown, t->begin,
                 t->end);
    ft__json_add_text(&text, t->prefix);
    ft__write_ids(&text, "before", t->before, t->before_count);
    ft__write_ids(&text, "after", t->after, t->after_count);
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
    ft__write_ids(&text, "merges", t->merge_order, 2 * t->merge_count);
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
        {"lower", &t->lower}, {"strip_accents", &t->strip_accents}, {"clean", &t->clean},
        {"split_ideographs", &t->split_ideographs}, {"spaces_only", &t->spaces_only},
        {"space_first", &t->space_first}};
    size_t i;
    for (i = 0; i < sizeof switches / sizeof switches[0]; ++i)
        *switches[i].to = ft__own_number(t, json, ft__json_member(json, 0, switches[i].key), 0, 1,
                                         path) == 1;
    snprintf(t->prefix, sizeof t->prefix, "%s", prefix ? prefix : "");
    t->longest_word = ft__own_number(t, json, ft__json_member(json, 0, "longest_word"), 1, 1 << 20,
                                     path);
    t->unknown = ft__own_number(t, json, ft__json_member(json, 0, "unknown"), -1, last, path);
    t->begin = ft__own_number(t, json, ft__json_member(json, 0, "begin"), -1, last, path);
    t->end = ft__own_number(t, json, ft__json_member(json, 0, "end"), -1, last, path);
    t->before_count = ft__own_ids(t, json, "before", t->before, FT__MOST_AROUND, path);
    t->after_count = ft__own_ids(t, json, "after", t->after, FT__MOST_AROUND, path);
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
        return t;
    }
    if (ft__json_member(json, 0, "model") >= 0) return ft__load_hf(m, json, path);
    if (ft__json_string(json, ft__json_member(json, 0, "kind"))) return ft__load_own(m, json, path);
    t = ft__tokenizer_make(m, FT_BYTE_BPE);
    if (t) ft__read_vocab_json(t, json, 0, -1, path);
    if (t && ft__ok(&m->context)) ft__read_merges_beside(t, path, options);
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
        t->lower = t->strip_accents = !options->cased;
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
    t->lower = t->strip_accents = !options.cased;
    t->spaces_only = options.spaces_only;
    for (i = 0; i < count && ft__ok(&m->context); ++i) {
        if (kind == FT_WORDS) ft__basic_words(t, texts[i], strlen(texts[i]), ft__count_word);
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
    if (text) ft__encode(t, text, bytes);
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
