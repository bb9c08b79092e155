#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "text/unicode.h"

/* =============================================================================================
   [SECTION] text/tokenizers: Tokenisers
   A tokeniser converts a text to the ids of its pieces, and back. Five kinds:
     characters    a character is a piece
     words         BERT's basic tokeniser, or splitting at spaces; rare words are <unk>
     WordPiece     BERT's basic tokeniser, then each word as the longest pieces from the left (Wu et
                   al. 2016; Devlin et al. 2018)
     byte BPE      the text's bytes, then pairs merged in the order of their ranks, inside the words
                   of GPT-2's pattern (Sennrich et al. 2016; Radford et al. 2019)
     scored BPE    characters, or bytes if a character is no piece, then pairs merged, the highest
                   score first (SentencePiece's BPE as llama2.c reads it)
   All take time in proportion to n log n for any text. A text is only text: "[SEP]" in it is five
   characters, never the piece that ends a sentence.
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

enum { FT__MOST_AROUND = 4 };

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
    /* Words and WordPiece: */
    bool lower, strip_accents, split_ideographs, clean, spaces_only;
    int longest_word;       /* in characters: longer ones are unknown */
    char prefix[16];        /* of pieces that continue a word: "##" */
    /* Both kinds of BPE: */
    bool space_first;       /* a space is put before the text */
    int byte_id[256];       /* the piece of a byte; -1: none */
    ft__merge *merges;      /* a table by (left, right) */
    size_t merge_slots;
    int merge_count;
    int *merge_order;       /* [2 * merge_count]: left and right by rank, for the model file */
    float *scores;          /* [pieces] of scored BPE */
    int *priority;          /* [pieces] of scored BPE: 0 for the highest score */
    /* Work, kept from call to call: */
    ft__ids ids;
    ft__text text, word;
    ft__symbol *symbols;
    size_t symbol_capacity;
    ft__candidate *heap;
    size_t heap_count, heap_capacity;
};

static bool ft__is_special(const ft_tokenizer *t, int id) { return t->special && t->special[id]; }

/* ---- BERT's basic tokeniser ----
   Control characters are dropped, each ideograph is a word, accents are removed, letters become
   lower case; then words end at spaces, and each punctuation mark is a word. */
static void ft__emit_word(ft_tokenizer *t, void (*each)(ft_tokenizer *, const char *, size_t))
{
    if (t->word.count > 0) each(t, t->word.letters, t->word.count);
    t->word.count = 0;
}

static void ft__basic_letter(ft_tokenizer *t, uint32_t code,
                             void (*each)(ft_tokenizer *, const char *, size_t))
{
    char bytes[4];
    int count = ft__utf8_write(code, bytes);
    bool alone = !t->spaces_only && (code < 0x80
        ? code > ' ' && code < 0x7f && !(code >= '0' && code <= '9')
          && !((code | 32) >= 'a' && (code | 32) <= 'z')
        : ft__unicode_class(code) == FT__PUNCTUATION);
    if (ft__unicode_space(code) || alone) ft__emit_word(t, each);
    if (ft__unicode_space(code)) return;
    ft__text_add_bytes(&t->word, bytes, (size_t)count);
    if (alone) ft__emit_word(t, each);
}

static void ft__basic_words(ft_tokenizer *t, const char *text, size_t bytes,
                            void (*each)(ft_tokenizer *, const char *, size_t))
{
    int taken, i;
    t->word.count = 0;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken), letters[3] = {0, 0, 0};
        int count = 1;
        bool ideograph;
        if (t->clean && (code == 0 || code == FT__INVALID || (ft__unicode_class(code) == FT__CONTROL
            && code != '\t' && code != '\n' && code != '\r'))) continue;
        ideograph = t->split_ideographs && ft__unicode_ideograph(code);
        if (ideograph) ft__emit_word(t, each);
        letters[0] = code;
        if (t->strip_accents) count = ft__unicode_base(code, letters);
        for (i = 0; i < count; ++i) {
            if (t->lower && letters[i] == 0x130) { /* the only one that becomes two: i and a dot */
                ft__basic_letter(t, 'i', each);
                letters[i] = 0x307;
            } else if (t->lower) letters[i] = ft__unicode_to_lower(letters[i]);
            ft__basic_letter(t, letters[i], each);
        }
        if (ideograph) ft__emit_word(t, each);
    }
    ft__emit_word(t, each);
}

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
    if (t->kind == FT_BYTE_BPE) {
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

static void ft__merge_bytes(ft_tokenizer *t, const char *word, size_t bytes)
{
    int count = 0, id;
    size_t i;
    if (!ft__symbols_fit(t, bytes)) return;
    for (i = 0; i < bytes; ++i) {
        id = t->byte_id[(unsigned char)word[i]];
        if (id < 0) id = t->unknown;
        if (id >= 0) t->symbols[count++].id = id;
    }
    ft__merge_symbols(t, count);
}

/* The class of a character in GPT-2's pattern: L, N, space, or anything else. */
static int ft__gpt2_class(uint32_t code, int taken)
{
    int k;
    if (code == FT__INVALID && taken == 1) return FT__OTHER;
    if (ft__unicode_space(code)) return FT__CONTROL; /* means "space" here */
    k = ft__unicode_class(code);
    return k == FT__LETTER || k == FT__NUMBER ? k : FT__OTHER;
}

static size_t ft__gpt2_run(const char *text, size_t at, size_t bytes, int wanted, size_t *last)
{
    int taken;
    for (*last = at; at < bytes; at += (size_t)taken) {
        uint32_t code = ft__utf8_read(text + at, bytes - at, &taken);
        if (ft__gpt2_class(code, taken) != wanted) break;
        *last = at;
    }
    return at;
}

/* The end of the word that begins at `at`, by GPT-2's pattern:
       's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+               */
static size_t ft__gpt2_word(const char *text, size_t at, size_t bytes)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    size_t i, count, last, end, first = at;
    uint32_t code;
    int taken, k;
    for (i = 0; i < sizeof endings / sizeof endings[0]; ++i) {
        count = strlen(endings[i]);
        if (bytes - at >= count && memcmp(text + at, endings[i], count) == 0) return at + count;
    }
    if (text[at] == ' ' && at + 1 < bytes) first += 1;
    code = ft__utf8_read(text + first, bytes - first, &taken);
    k = ft__gpt2_class(code, taken);
    if (k != FT__CONTROL) return ft__gpt2_run(text, first, bytes, k, &last);
    end = ft__gpt2_run(text, at, bytes, FT__CONTROL, &last);
    return end == bytes || last == at ? end : last; /* the last space belongs to the next word */
}

static void ft__byte_bpe(ft_tokenizer *t, const char *text, size_t bytes)
{
    size_t at, end;
    for (at = 0; at < bytes && ft__ok(t->ids.context); at = end) {
        end = ft__gpt2_word(text, at, bytes);
        ft__merge_bytes(t, text + at, end - at);
    }
}

static void ft__scored_bpe(ft_tokenizer *t, const char *text, size_t bytes)
{
    int count = 0, taken, i;
    if (!ft__symbols_fit(t, bytes)) return;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        int id;
        ft__utf8_read(text, bytes, &taken);
        id = ft__vocabulary_find(&t->pieces, text, (size_t)taken);
        if (id >= 0) t->symbols[count++].id = id;
        else for (i = 0; i < taken; ++i)
            t->symbols[count++].id = t->byte_id[(unsigned char)text[i]];
    }
    ft__merge_symbols(t, count);
}

/* ---- Text to ids ---- */

/* Adds the ids of a text to t->ids. */
static void ft__encode(ft_tokenizer *t, const char *text, size_t bytes)
{
    bool space = t->space_first && bytes > 0 && (t->kind == FT_SCORED_BPE || text[0] != ' ');
    ft__text spaced;
    memset(&spaced, 0, sizeof spaced);
    spaced.context = t->ids.context;
    if (space) {
        ft__text_add_bytes(&spaced, " ", 1);
        ft__text_add_bytes(&spaced, text, bytes);
        text = spaced.letters;
        bytes = spaced.count;
    }
    if (!ft__ok(t->ids.context)) return;
    if (t->kind == FT_CHARACTERS) ft__characters(t, text, bytes);
    else if (t->kind == FT_WORDS) ft__basic_words(t, text, bytes, ft__whole_word);
    else if (t->kind == FT_WORDPIECE) ft__basic_words(t, text, bytes, ft__word_pieces);
    else if (t->kind == FT_BYTE_BPE) ft__byte_bpe(t, text, bytes);
    else ft__scored_bpe(t, text, bytes);
    ft__release(t->ids.context, spaced.letters);
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

/* GPT-2 writes each byte as a visible character: itself if it is one, else the next one from U+0100
   on. The invisible bytes are 0..32, 127..160 and 173. */
static uint32_t ft__byte_letter(int number)
{
    if (number <= 32) return (uint32_t)(0x100 + number);
    if (number >= 127 && number <= 160) return (uint32_t)(0x100 + 33 + number - 127);
    return number == 173 ? 0x100 + 67 : (uint32_t)number;
}

static int ft__letter_byte(uint32_t code) /* -1: no byte has this character */
{
    int n = code < 0x200 ? (int)code - 0x100 : 68;
    int number = n < 0 ? (int)code : n < 33 ? n : n < 67 ? n - 33 + 127 : 173;
    return number < 256 && ft__byte_letter(number) == code ? number : -1;
}

static void ft__decode_bytes(ft__text *to, const char *piece, size_t bytes)
{
    int taken, number;
    char letter;
    for (; bytes > 0; piece += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(piece, bytes, &taken);
        number = ft__letter_byte(code);
        letter = (char)number;
        if (number >= 0) ft__text_add_bytes(to, &letter, 1);
        else ft__text_add_bytes(to, piece, (size_t)taken);
    }
}

/* Appends a piece's text; `first`: no text precedes it. */
static void ft__decode_piece(const ft_tokenizer *t, int id, bool first, ft__text *to)
{
    const char *piece = ft__piece_text(&t->pieces, id);
    size_t bytes = ft__piece_bytes(&t->pieces, id), prefix = strlen(t->prefix);
    int b;
    if (ft__is_special(t, id)) return;
    if (t->kind == FT_BYTE_BPE) {
        ft__decode_bytes(to, piece, bytes);
        return;
    }
    if (t->kind == FT_WORDPIECE && !first && prefix && bytes >= prefix
        && memcmp(piece, t->prefix, prefix) == 0) {
        piece += prefix;
        bytes -= prefix;
    } else if ((t->kind == FT_WORDS || t->kind == FT_WORDPIECE) && !first)
        ft__text_add_bytes(to, " ", 1);
    if (t->kind == FT_SCORED_BPE) {
        for (b = 0; b < 256 && t->byte_id[b] != id; ++b) {}
        if (b < 256) {
            char letter = (char)b;
            ft__text_add_bytes(to, &letter, 1);
            return;
        }
        if (first && t->space_first && bytes > 0 && piece[0] == ' ') {
            piece += 1;
            bytes -= 1;
        }
    }
    ft__text_add_bytes(to, piece, bytes);
}

static void ft__tokenizer_release(ft_tokenizer *t)
{
    ft__context *c = t->ids.context;
    ft__release(c, t->heap);
    ft__release(c, t->symbols);
    ft__release(c, t->word.letters);
    ft__release(c, t->text.letters);
    ft__release(c, t->ids.values);
    ft__release(c, t->priority);
    ft__release(c, t->scores);
    ft__release(c, t->merge_order);
    ft__release(c, t->merges);
    ft__release(c, t->special);
    ft__vocabulary_release(&t->pieces);
    ft__release(c, t);
}
