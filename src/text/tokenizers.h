#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "text/unicode.h"
#include "text/normal_forms.h"
#include "text/text_steps.h"

/* =============================================================================================
   [SECTION] text/tokenizers: Tokenisers
   A tokeniser converts a text to the ids of its pieces, and back. Its steps (text_steps) change the
   text and split it into words; then its model makes pieces of each word. Six kinds:
     characters    a character is a piece
     words         a word is a piece; rare words are <unk>
     WordPiece     the longest pieces from the left (Wu et al. 2016; Devlin et al. 2018)
     byte BPE      bytes, then pairs merged in the order of their ranks (Sennrich et al. 2016;
                   Radford et al. 2019)
     BPE           the same of characters, or of bytes if a character is no piece
     scored BPE    as BPE, but the pair merges first whose result has the highest score
                   (SentencePiece's BPE as llama2.c reads it)
   All take time in proportion to n log n for any text. A text is only text: "[SEP]" in it is five
   characters, never the piece that ends a sentence, unless the caller asks for that.
   ============================================================================================= */

/* ---- Vocabulary: pieces, their ids, and a table that finds them ---- */
typedef struct ft__vocabulary {
    ft__context *context;
    ft__text letters;       /* all pieces, each ending in a 0 */
    size_t *start;          /* [count + 1]: of each piece in letters */
    int count, capacity;
    int *table;             /* [slots]: id + 1; 0: free. A power of two, at least half free */
    size_t slots;
} ft__vocabulary;

static const char *ft__piece_text(const ft__vocabulary *v, int id)
{
    return v->letters.letters + v->start[id];
}

static size_t ft__piece_bytes(const ft__vocabulary *v, int id)
{
    return v->start[id + 1] - v->start[id] - 1;
}

static size_t ft__vocabulary_slot(const ft__vocabulary *v, const char *bytes, size_t count)
{
    size_t slot = (size_t)ft__hash_bytes(1, bytes, count) & (v->slots - 1);
    while (v->table[slot]) {
        int id = v->table[slot] - 1;
        if (ft__piece_bytes(v, id) == count && memcmp(ft__piece_text(v, id), bytes, count) == 0)
            break;
        slot = (slot + 1) & (v->slots - 1);
    }
    return slot;
}

static int ft__vocabulary_find(const ft__vocabulary *v, const char *bytes, size_t count)
{
    return v->slots ? v->table[ft__vocabulary_slot(v, bytes, count)] - 1 : -1;
}

static void ft__vocabulary_grow(ft__vocabulary *v)
{
    ft__context *c = v->context;
    size_t slots = v->slots ? 2 * v->slots : 1024;
    size_t *start;
    int id;
    if (v->count + 1 < v->capacity && 2 * ((size_t)v->count + 1) < v->slots) return;
    start = (size_t *)ft__grow(c, v->start, v->start ? (size_t)v->count + 1 : 0, slots / 2 + 1,
                               sizeof *start);
    if (!start) return;
    v->start = start;
    v->capacity = (int)(slots / 2);
    ft__release(c, v->table);
    v->slots = 0;
    v->table = (int *)ft__allocate(c, slots, sizeof *v->table);
    if (!v->table) return;
    v->slots = slots;
    for (id = 0; id < v->count; ++id) {
        size_t bytes = ft__piece_bytes(v, id);
        if (bytes > 0) v->table[ft__vocabulary_slot(v, ft__piece_text(v, id), bytes)] = id + 1;
    }
}

/* Appends a piece, which replaces an equal one in the table. An empty one has only an id. */
static void ft__vocabulary_add(ft__vocabulary *v, const char *bytes, size_t count)
{
    ft__context *c = v->context;
    if (v->count >= 1 << 26) ft__fail(c, FT_FORMAT, "a vocabulary of more than %d pieces is not"
                                      " supported", 1 << 26);
    if (ft__ok(c)) ft__vocabulary_grow(v);
    ft__text_add_bytes(&v->letters, bytes, count);
    ft__text_add_bytes(&v->letters, "", 1);
    if (!ft__ok(c)) return;
    v->count += 1;
    v->start[v->count] = v->letters.count;
    if (count > 0) v->table[ft__vocabulary_slot(v, bytes, count)] = v->count;
}

static void ft__vocabulary_release(ft__vocabulary *v)
{
    ft__release(v->context, v->table);
    ft__release(v->context, v->start);
    ft__release(v->context, v->letters.letters);
}

/* ---- The tokeniser ---- */
typedef struct ft__ids { ft__context *context; int32_t *values; size_t count, capacity; } ft__ids;

static void ft__ids_add(ft__ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = 2 * ids->capacity + 256;
        int32_t *grown = (int32_t *)ft__grow(ids->context, ids->values, ids->count, capacity,
                                             sizeof *grown);
        if (!grown) return;
        ids->values = grown;
        ids->capacity = capacity;
    }
    ids->values[ids->count++] = id;
}

typedef struct ft__merge { int left, right, priority, result; } ft__merge; /* result < 0: free */
typedef struct ft__symbol { int id, previous, next; } ft__symbol; /* -1: none; id < 0: merged */
typedef struct ft__candidate { int priority, at, left, right, result; } ft__candidate;

enum { FT__MOST_AROUND = 4, FT__MOST_PAIR = 12 };

/* A step of the template of pairs (text/pairs): a piece, or one of the texts, and its type. */
typedef struct ft__pair_step { int id, type; } ft__pair_step;

/* Pieces that are found in a text before it is split: one list for the text as it is, one for the
   normalized text. */
enum { FT__SPECIAL = 1, FT__SPACE_LEFT = 2, FT__SPACE_RIGHT = 4, FT__SINGLE_WORD = 8 };

typedef struct ft__added {
    ft__vocabulary contents;
    int *ids;               /* [contents] */
    char *rules;            /* [contents]: of the bits above */
    bool starts[256];       /* the bytes that one begins with */
    bool lengths[256];      /* the numbers of bytes that one has */
    int longest;
} ft__added;

struct ft_tokenizer {
    ft_model *model;
    ft_tokenizer *next;     /* in the model's list */
    ft_tokenizer_kind kind;
    ft__vocabulary pieces;
    size_t longest_piece;   /* in bytes */
    char *special;          /* [pieces]: 1 if it represents no text, like [SEP] */
    int unknown, padding, begin, end;       /* ids; -1: there is none */
    int before[FT__MOST_AROUND], before_count; /* ids put before a text on request ... */
    int after[FT__MOST_AROUND], after_count;   /* ... and after it */
    ft__pair_step pair[FT__MOST_PAIR]; /* the template of pairs */
    int pair_count;
    ft__text_steps normalizers, splitters, decoders;
    ft__added added[2];     /* in the text, and in the normalized text */
    char *steps;            /* the text that these are made from, as in tokenizer.json */
    /* WordPiece: */
    int longest_word;       /* in characters: longer ones are unknown */
    char prefix[16];        /* of pieces that continue a word: "##" */
    /* BPE: */
    bool byte_fallback;     /* a character that is no piece is written as bytes */
    bool fuse_unknown;      /* unknown characters side by side are one unknown piece */
    bool whole_words;       /* a word that is a piece is not merged from its parts */
    int byte_id[256];       /* the piece of a byte; -1: none */
    ft__merge *merges;      /* a table by (left, right) */
    size_t merge_slots;
    int merge_count;
    int *merge_order;       /* [2 * merge_count]: left and right by rank, for the model file */
    float *scores;          /* [pieces] of scored BPE */
    int *priority;          /* [pieces] of scored BPE: 0 for the highest score */
    /* Work, kept from call to call: */
    ft__ids ids, pair_ids, pair_types;
    ft__text text, word;
    ft__codes codes;
    ft__words normal[2], words[2];
    ft__symbol *symbols;
    size_t symbol_capacity;
    ft__candidate *heap;
    size_t heap_count, heap_capacity;
};

static bool ft__is_special(const ft_tokenizer *t, int id) { return t->special && t->special[id]; }

static void ft__whole_word(ft_tokenizer *t, const char *word, size_t bytes)
{
    int id = ft__vocabulary_find(&t->pieces, word, bytes);
    if (id < 0) id = t->unknown;
    if (id >= 0) ft__ids_add(&t->ids, id);
}

/* The longest piece that `word` starts with, *taken bytes of it; -1 if there is none. */
static int ft__longest_piece(ft_tokenizer *t, const char *word, size_t bytes, bool first,
                             size_t *taken)
{
    size_t prefix = first ? 0 : strlen(t->prefix), most = t->longest_piece;
    *taken = bytes < most ? bytes : most;
    t->text.count = 0;
    ft__text_add_bytes(&t->text, t->prefix, prefix);
    ft__text_add_bytes(&t->text, word, *taken);
    for (; *taken > 0 && ft__ok(t->ids.context); *taken -= 1) {
        int id = ft__vocabulary_find(&t->pieces, t->text.letters, prefix + *taken);
        if (id >= 0) return id;
    }
    return -1;
}

static void ft__word_pieces(ft_tokenizer *t, const char *word, size_t bytes)
{
    size_t at = 0, before = t->ids.count, taken, i, characters = 0;
    for (i = 0; i < bytes; ++i) characters += ((unsigned char)word[i] & 0xc0) != 0x80;
    if (characters > (size_t)t->longest_word) {
        ft__ids_add(&t->ids, t->unknown);
        return;
    }
    for (; at < bytes; at += taken) {
        int id = ft__longest_piece(t, word + at, bytes - at, at == 0, &taken);
        if (id < 0) { /* if one part is unknown, the whole word is */
            t->ids.count = before;
            ft__ids_add(&t->ids, t->unknown);
            return;
        }
        ft__ids_add(&t->ids, id);
    }
}

static void ft__characters(ft_tokenizer *t, const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        ft__utf8_read(text, bytes, &taken);
        ft__whole_word(t, text, (size_t)taken);
    }
}

/* ---- Byte-pair encoding ----
   The symbols of a word are a linked list; a heap holds the pairs that can be merged, the best
   first. A merge makes two new pairs; old ones that no longer fit stay in the heap and are skipped
   when they come up: n symbols take n log n. */
static size_t ft__merge_slot(const ft_tokenizer *t, int left, int right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t slot = (size_t)ft__mix(pair) & (t->merge_slots - 1);
    while (t->merges[slot].result >= 0
           && (t->merges[slot].left != left || t->merges[slot].right != right))
        slot = (slot + 1) & (t->merge_slots - 1);
    return slot;
}

/* The piece that two pieces form together; -1 if there is none. */
static int ft__joined(ft_tokenizer *t, int left, int right)
{
    const ft__vocabulary *v = &t->pieces;
    t->word.count = 0;
    ft__text_add_bytes(&t->word, ft__piece_text(v, left), ft__piece_bytes(v, left));
    ft__text_add_bytes(&t->word, ft__piece_text(v, right), ft__piece_bytes(v, right));
    return ft__ok(v->context) ? ft__vocabulary_find(v, t->word.letters, t->word.count) : -1;
}

/* What a pair merges into, and its priority (0: the highest); false if it does not merge. */
static bool ft__merge_of(ft_tokenizer *t, int left, int right, ft__candidate *to)
{
    size_t a = ft__piece_bytes(&t->pieces, left), b = ft__piece_bytes(&t->pieces, right);
    if (t->kind != FT_SCORED_BPE) {
        const ft__merge *merge = t->merge_slots ? &t->merges[ft__merge_slot(t, left, right)] : NULL;
        if (!merge || merge->result < 0) return false;
        to->priority = merge->priority;
        to->result = merge->result;
        return true;
    }
    if (a + b > t->longest_piece) return false;
    to->result = ft__joined(t, left, right);
    if (to->result >= 0) to->priority = t->priority[to->result];
    return to->result >= 0;
}

static bool ft__sooner(const ft__candidate *a, const ft__candidate *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->at < b->at;
}

static void ft__heap_push(ft_tokenizer *t, ft__candidate candidate)
{
    size_t i = t->heap_count;
    if (i == t->heap_capacity) {
        size_t capacity = 2 * t->heap_capacity + 64;
        ft__candidate *grown = (ft__candidate *)ft__grow(t->ids.context, t->heap, i, capacity,
                                                         sizeof *grown);
        if (!grown) return;
        t->heap = grown;
        t->heap_capacity = capacity;
    }
    t->heap_count += 1;
    for (; i > 0 && ft__sooner(&candidate, &t->heap[(i - 1) / 2]); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = candidate;
}

static ft__candidate ft__heap_pop(ft_tokenizer *t)
{
    ft__candidate first = t->heap[0], last = t->heap[--t->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < t->heap_count) {
        if (child + 1 < t->heap_count && ft__sooner(&t->heap[child + 1], &t->heap[child]))
            child += 1;
        if (!ft__sooner(&t->heap[child], &last)) break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    t->heap[i] = last;
    return first;
}

static void ft__push_pair(ft_tokenizer *t, int left)
{
    ft__candidate pair;
    int right = left >= 0 ? t->symbols[left].next : -1;
    if (right < 0) return;
    pair.at = left;
    pair.left = t->symbols[left].id;
    pair.right = t->symbols[right].id;
    if (ft__merge_of(t, pair.left, pair.right, &pair)) ft__heap_push(t, pair);
}

/* Merges symbols[0..count), whose ids are set, and adds what is left to the ids. */
static void ft__merge_symbols(ft_tokenizer *t, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        t->symbols[i].previous = i - 1;
        t->symbols[i].next = i + 1 < count ? i + 1 : -1;
    }
    t->heap_count = 0;
    for (i = 0; i + 1 < count; ++i) ft__push_pair(t, i);
    while (t->heap_count > 0 && ft__ok(t->ids.context)) {
        ft__candidate best = ft__heap_pop(t);
        ft__symbol *left = &t->symbols[best.at], *right;
        if (left->id != best.left || left->next < 0) continue;
        right = &t->symbols[left->next];
        if (right->id != best.right) continue;
        left->id = best.result;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0) t->symbols[right->next].previous = best.at;
        ft__push_pair(t, left->previous);
        ft__push_pair(t, best.at);
    }
    for (i = 0; count > 0 && i >= 0; i = t->symbols[i].next) ft__ids_add(&t->ids, t->symbols[i].id);
}

static bool ft__symbols_fit(ft_tokenizer *t, size_t count)
{
    if (count > INT_MAX / 4) ft__fail(t->ids.context, FT_INVALID, "a text of %zu bytes is too long"
                                      " to tokenise at once", count);
    if (ft__ok(t->ids.context) && count > t->symbol_capacity) {
        size_t capacity = 2 * count;
        ft__symbol *grown = (ft__symbol *)ft__grow(t->ids.context, t->symbols, 0, capacity,
                                                   sizeof *grown);
        if (grown) {
            t->symbols = grown;
            t->symbol_capacity = capacity;
        }
    }
    return ft__ok(t->ids.context);
}

/* Adds a symbol; -1 is unknown, and left out if there is no piece for that. *unknown: whether an
   unknown one waits for what comes after it. */
static void ft__symbol_add(ft_tokenizer *t, int *count, int id, bool *unknown)
{
    if (id < 0 && t->unknown < 0) return;
    if (*unknown && (id >= 0 || !t->fuse_unknown)) t->symbols[(*count)++].id = t->unknown;
    *unknown = id < 0;
    if (id >= 0) t->symbols[(*count)++].id = id;
}

/* The bytes of a character, if there are pieces for all of them. */
static bool ft__symbols_add_bytes(ft_tokenizer *t, int *count, const char *bytes, int taken)
{
    int i;
    for (i = 0; i < taken; ++i)
        if (!t->byte_fallback || t->byte_id[(unsigned char)bytes[i]] < 0) return false;
    for (i = 0; i < taken; ++i)
        t->symbols[(*count)++].id = t->byte_id[(unsigned char)bytes[i]];
    return true;
}

/* Makes pieces of a word, by all kinds of BPE. */
static void ft__merge_word(ft_tokenizer *t, const char *word, size_t bytes)
{
    int count = 0, taken = 1;
    bool unknown = false;
    if (!ft__symbols_fit(t, bytes)) return;
    for (; bytes > 0; word += taken, bytes -= (size_t)taken) {
        int id = t->byte_id[(unsigned char)*word];
        if (t->kind != FT_BYTE_BPE) {
            ft__utf8_read(word, bytes, &taken);
            id = ft__vocabulary_find(&t->pieces, word, (size_t)taken);
            if (id < 0 && ft__symbols_add_bytes(t, &count, word, taken)) continue;
        }
        ft__symbol_add(t, &count, id, &unknown);
    }
    if (unknown) t->symbols[count++].id = t->unknown;
    ft__merge_symbols(t, count);
}

/* The piece that a word is as a whole; -1: none. Pieces of byte BPE are letters for bytes. */
static int ft__whole_piece(ft_tokenizer *t, const char *word, size_t bytes)
{
    size_t i;
    char letter[4];
    int id;
    if (bytes > t->longest_piece) return -1;
    t->word.count = 0;
    for (i = 0; i < bytes; ++i) {
        int count = t->kind != FT_BYTE_BPE ? 1
            : ft__utf8_write(ft__byte_letter((unsigned char)word[i]), letter);
        ft__text_add_bytes(&t->word, t->kind != FT_BYTE_BPE ? word + i : letter, (size_t)count);
    }
    id = ft__ok(t->ids.context) ? ft__vocabulary_find(&t->pieces, t->word.letters, t->word.count)
                                : -1;
    return id >= 0 && !ft__is_special(t, id) ? id : -1;
}

static void ft__bpe(ft_tokenizer *t, const char *word, size_t bytes)
{
    int id = t->whole_words ? ft__whole_piece(t, word, bytes) : -1;
    if (id >= 0) ft__ids_add(&t->ids, id);
    else ft__merge_word(t, word, bytes);
}

/* ---- Text to ids ---- */

typedef void ft__each_word(ft_tokenizer *t, const char *word, size_t bytes);

/* Splits a normalized text into words and calls `each` for them. */
static void ft__split_words(ft_tokenizer *t, const char *text, size_t bytes, bool first,
                            ft__each_word *each)
{
    const ft__words *words;
    size_t w, count;
    if (t->splitters.count == 0) {
        if (bytes > 0) each(t, text, bytes);
        return;
    }
    words = ft__run_steps(&t->splitters, text, bytes, first, t->words);
    for (w = 0; w < words->count && ft__ok(t->ids.context); ++w) {
        const char *word = ft__word_of(words, w, &count);
        each(t, word, count);
    }
}

/* The normalized text. */
static const char *ft__normalized(ft_tokenizer *t, const char *text, size_t *bytes, bool first)
{
    const ft__words *normal;
    if (t->normalizers.count == 0 || *bytes == 0) return text;
    normal = ft__run_steps(&t->normalizers, text, *bytes, first, t->normal);
    *bytes = normal->text.count;
    return *bytes > 0 ? normal->text.letters : "";
}

/* Calls `each` for the words of a text, in which no added pieces are looked for. */
static void ft__text_words(ft_tokenizer *t, const char *text, size_t bytes, ft__each_word *each)
{
    text = ft__normalized(t, text, &bytes, true);
    ft__split_words(t, text, bytes, true, each);
}

static void ft__word_ids(ft_tokenizer *t, const char *word, size_t bytes)
{
    if (t->kind == FT_CHARACTERS) ft__characters(t, word, bytes);
    else if (t->kind == FT_WORDS) ft__whole_word(t, word, bytes);
    else if (t->kind == FT_WORDPIECE) ft__word_pieces(t, word, bytes);
    else ft__bpe(t, word, bytes);
}

/* Is a letter, mark, number or underscore at the text's begin, or with `back` at its end? */
static bool ft__at_word(const char *text, size_t bytes, bool back)
{
    size_t at = back && bytes > 0 ? bytes - 1 : 0;
    uint32_t code;
    int taken, k;
    if (bytes == 0) return false;
    while (back && at > 0 && bytes - at < 4 && ((unsigned char)text[at] & 0xc0) == 0x80) at -= 1;
    code = ft__utf8_read(text + at, bytes - at, &taken);
    if (code == FT__INVALID && taken == 1) return false;
    k = ft__unicode_class(code);
    return k == FT__LETTER || k == FT__MARK || k == FT__SPACING_MARK || k == FT__NUMBER
        || code == '_';
}

/* The bytes of white space at the text's begin, or with `back` at its end. */
static size_t ft__spaces_at(const char *text, size_t bytes, bool back)
{
    size_t at = 0, run = 0; /* run: the white space that ends at `at` */
    int taken;
    for (; at < bytes; at += (size_t)taken) {
        bool space = ft__unicode_space(ft__utf8_read(text + at, bytes - at, &taken));
        if (!space && !back) return at;
        run = space ? run + (size_t)taken : 0;
    }
    return back ? run : bytes;
}

typedef struct ft__found { size_t from, to; int id; } ft__found;

/* Finds the next added piece of a list from *scan on, which moves past it; `done`: where the one
   before it ended. Of several that begin at one place the longest is found. */
static bool ft__find_added(const ft__added *list, const char *text, size_t bytes, bool special,
                           size_t *scan, size_t done, ft__found *found)
{
    for (; *scan < bytes; *scan += 1) {
        size_t at = *scan, length = list->starts[(unsigned char)text[at]] ? (size_t)list->longest
                                                                          : 0;
        int index = -1, rules;
        if (length > bytes - at) length = bytes - at;
        for (; length > 0 && index < 0; --length)
            if (list->lengths[length])
                index = ft__vocabulary_find(&list->contents, text + at, length);
        if (index < 0) continue;
        found->from = at;
        found->to = at + ft__piece_bytes(&list->contents, index);
        found->id = list->ids[index];
        rules = list->rules[index];
        *scan = found->to - 1;
        if ((rules & FT__SPECIAL) && !special) continue;
        if ((rules & FT__SINGLE_WORD) && (ft__at_word(text, at, true)
            || ft__at_word(text + found->to, bytes - found->to, false))) continue;
        *scan = found->to;
        if (found->from < done) found->from = done;
        if (rules & FT__SPACE_LEFT)
            found->from -= ft__spaces_at(text + done, found->from - done, true);
        if (rules & FT__SPACE_RIGHT)
            found->to += ft__spaces_at(text + found->to, bytes - found->to, false);
        return true;
    }
    return false;
}

/* Adds the ids of a part of a text without added pieces of the first list. */
static void ft__encode_part(ft_tokenizer *t, const char *text, size_t bytes, bool first,
                            bool special)
{
    size_t scan = 0, done = 0;
    ft__found found;
    text = ft__normalized(t, text, &bytes, first);
    while (ft__find_added(&t->added[1], text, bytes, special, &scan, done, &found)) {
        ft__split_words(t, text + done, found.from - done, first && done == 0, ft__word_ids);
        ft__ids_add(&t->ids, found.id);
        done = found.to;
    }
    if (done < bytes)
        ft__split_words(t, text + done, bytes - done, first && done == 0, ft__word_ids);
}

/* Adds the ids of a text to t->ids; `first`: it is the begin of one, not what follows another. With
   `special`, special pieces are found in it too. */
static void ft__encode_as(ft_tokenizer *t, const char *text, size_t bytes, bool first, bool special)
{
    size_t scan = 0, done = 0;
    ft__found found;
    while (ft__ok(t->ids.context)
           && ft__find_added(&t->added[0], text, bytes, special, &scan, done, &found)) {
        ft__encode_part(t, text + done, found.from - done, first && done == 0, special);
        ft__ids_add(&t->ids, found.id);
        done = found.to;
    }
    if (done < bytes) ft__encode_part(t, text + done, bytes - done, first && done == 0, special);
}

static void ft__encode(ft_tokenizer *t, const char *text, size_t bytes)
{
    ft__encode_as(t, text, bytes, true, false);
}

/* Cuts the tokens of ft_tokenize to `longest`. What the kind puts after a text, such as [SEP],
   stays its end: Hugging Face's tokenisers cut before they add it. */
static void ft__cut_tokens(ft_tokenizer *t, ft_tokens *tokens, int longest)
{
    int end = t->before_count + t->after_count < longest ? t->after_count : 0;
    if (tokens->count <= longest) return;
    memmove(t->ids.values + longest - end, t->ids.values + tokens->count - end,
            (size_t)end * sizeof *t->ids.values);
    tokens->count = longest;
}

/* ---- Ids to text ---- */

/* Appends a piece's text; `first`: no text precedes it. */
static void ft__decode_piece(const ft_tokenizer *t, int id, bool first, ft__text *to)
{
    size_t from = to->count;
    if (ft__is_special(t, id)) return;
    ft__text_add_bytes(to, ft__piece_text(&t->pieces, id), ft__piece_bytes(&t->pieces, id));
    if (ft__ok(to->context)) ft__decode_steps(&t->decoders, to, from, first);
}

static void ft__tokenizer_release(ft_tokenizer *t)
{
    ft__context *c = t->ids.context;
    int i;
    for (i = 0; i < 2; ++i) {
        ft__release_words(&t->normal[i]);
        ft__release_words(&t->words[i]);
        ft__release(c, t->added[i].ids);
        ft__release(c, t->added[i].rules);
        if (t->added[i].contents.context) ft__vocabulary_release(&t->added[i].contents);
    }
    ft__release(c, t->codes.values);
    ft__release(c, t->steps);
    ft__release(c, t->heap);
    ft__release(c, t->symbols);
    ft__release(c, t->word.letters);
    ft__release(c, t->text.letters);
    ft__release(c, t->pair_types.values);
    ft__release(c, t->pair_ids.values);
    ft__release(c, t->ids.values);
    ft__release(c, t->priority);
    ft__release(c, t->scores);
    ft__release(c, t->merge_order);
    ft__release(c, t->merges);
    ft__release(c, t->special);
    ft__vocabulary_release(&t->pieces);
    ft__release(c, t);
}
