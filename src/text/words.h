#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "text/unicode.h"
#include "text/tokenizers.h"
#include "text/tokenizing.h"

/* =============================================================================================
   [SECTION] text/words: Words of a text, and their pieces
   For networks that give a class to each word. Each word is converted to pieces by itself, as
   Hugging Face's tokenisers do with is_split_into_words, and is represented by its first piece.
   ============================================================================================= */
typedef struct ft__word {
    size_t start, bytes;    /* in the text */
    int tag;                /* its class; -1: unknown */
    int place;              /* the step of its first piece; -1: it has none, or was cut off */
} ft__word;

static void ft__word_add(ft__context *c, ft__growing *words, size_t start, size_t bytes, int tag)
{
    ft__word *word = (ft__word *)ft__growing_add(c, words);
    if (!word) return;
    word->start = start;
    word->bytes = bytes;
    word->tag = tag;
    word->place = -1;
}

/* ---- A text to words ---- */

static bool ft__is_punctuation(const char *at, size_t bytes, int *taken)
{
    uint32_t code = ft__utf8_read(at, bytes, taken);
    if (code >= 0x80) return ft__unicode_class(code) == FT__PUNCTUATION;
    return code > ' ' && code < 0x7f && !(code >= '0' && code <= '9')
        && !((code | 32) >= 'a' && (code | 32) <= 'z');
}

/* The bytes of an ending such as 's or 'll, which treebanks write as a word of its own; 0: the word
   has none. */
static size_t ft__word_ending(const char *word, size_t bytes)
{
    static const char *const endings[] = {"s", "m", "d", "re", "ve", "ll"};
    static const char *const marks[] = {"'", "\xe2\x80\x99"};
    size_t i, k, letter;
    for (i = 0; i < sizeof endings / sizeof endings[0]; ++i)
        for (k = 0; k < 2; ++k) {
            size_t end = strlen(endings[i]), mark = strlen(marks[k]);
            const char *at = word + bytes - end;
            if (bytes < end + mark || memcmp(at - mark, marks[k], mark) != 0) continue;
            for (letter = 0; letter < end && (at[letter] | 32) == endings[i][letter]; ++letter) {}
            if (letter == end) return end + mark;
        }
    return 0;
}

/* The bytes of the run of one and the same punctuation mark at the start of a word; 0: a letter is
   there. */
static size_t ft__first_mark(const char *word, size_t bytes)
{
    int taken;
    size_t end;
    if (!ft__is_punctuation(word, bytes, &taken)) return 0;
    for (end = (size_t)taken; end + (size_t)taken <= bytes
         && memcmp(word, word + end, (size_t)taken) == 0;) end += (size_t)taken;
    return end;
}

/* The same at its end. */
static size_t ft__last_mark(const char *word, size_t bytes)
{
    size_t one = 1, end;
    int taken;
    while (one < bytes && ((unsigned char)word[bytes - one] & 0xc0) == 0x80) one += 1;
    if (!ft__is_punctuation(word + bytes - one, one, &taken)) return 0;
    for (end = one; end + one <= bytes
         && memcmp(word + bytes - one, word + bytes - end - one, one) == 0;) end += one;
    return end;
}

/* Adds the words between two spaces. Marks before and after the letters are words of their own, but
   not the @ and # of names, and not the last period of U.S. */
static void ft__split_chunk(ft__context *c, const char *text, size_t start, size_t end,
                            ft__growing *words)
{
    ft__growing after = {NULL, 0, 0, sizeof(ft__word)};
    size_t mark, i;
    for (i = start; i < end && (mark = ft__first_mark(text + i, end - i)) > 0;) i += mark;
    if (i == end || ft__word_ending(text + start, end - start) == end - start) {
        ft__word_add(c, words, start, end - start, -1); /* marks only, or 's by itself */
        return;
    }
    while ((mark = ft__first_mark(text + start, end - start)) > 0
           && !(mark == 1 && (text[start] == '@' || text[start] == '#'))) {
        ft__word_add(c, words, start, mark, -1);
        start += mark;
    }
    while ((mark = ft__last_mark(text + start, end - start)) > 0) {
        if (mark == 1 && text[end - 1] == '.' && memchr(text + start, '.', end - start - 1)) break;
        end -= mark;
        ft__word_add(c, &after, end, mark, -1);
    }
    mark = ft__word_ending(text + start, end - start);
    ft__word_add(c, words, start, end - start - mark, -1);
    if (mark) ft__word_add(c, words, end - mark, mark, -1);
    for (i = after.count; i-- > 0 && ft__ok(c);) {
        const ft__word *word = (const ft__word *)after.at + i;
        ft__word_add(c, words, word->start, word->bytes, -1);
    }
    ft__release(c, after.at);
}

/* Adds the words of a text, split at spaces and then as above. */
static void ft__find_words(ft__context *c, const char *text, size_t bytes, ft__growing *words)
{
    size_t start = 0, at = 0;
    int taken;
    for (; at < bytes && ft__ok(c); at += (size_t)taken) {
        if (!ft__unicode_space(ft__utf8_read(text + at, bytes - at, &taken))) continue;
        if (at > start) ft__split_chunk(c, text, start, at, words);
        start = at + (size_t)taken;
    }
    if (at > start && ft__ok(c)) ft__split_chunk(c, text, start, at, words);
}

/* ---- Words to pieces ---- */

/* The pieces of one word. Byte-level BPE has words that begin with their space, as Hugging Face's
   add_prefix_space does. */
static ft_tokens ft__tokenize_word(ft_tokenizer *t, const char *word, size_t bytes, ft__text *work)
{
    ft_tokenize_options plain;
    memset(&plain, 0, sizeof plain);
    if (t->kind != FT_BYTE_BPE || bytes == 0) return ft_tokenize(t, word, bytes, plain);
    work->count = 0;
    ft__text_add_bytes(work, " ", 1);
    ft__text_add_bytes(work, word, bytes);
    return ft_tokenize(t, work->letters, work->count, plain);
}

/* Adds the pieces of a text's words, with what the kind puts around a text, at most `longest` of
   them; sets the words' places. Returns how many words were cut off. Without any piece the unknown
   one is added, since a sequence has at least one step. */
static size_t ft__encode_words(ft_tokenizer *t, const char *text, ft__word *words, size_t count,
                               int longest, ft__ids *to)
{
    size_t start = to->count, room, cut = 0, i;
    int after = t->before_count + t->after_count < longest ? t->after_count : 0, k;
    ft__text work;
    memset(&work, 0, sizeof work);
    work.context = t->ids.context;
    for (k = 0; k < t->before_count && k < longest; ++k) ft__ids_add(to, t->before[k]);
    room = start + (size_t)(longest - after);
    for (i = 0; i < count && ft__ok(t->ids.context); ++i) {
        ft_tokens tokens = ft__tokenize_word(t, text + words[i].start, words[i].bytes, &work);
        words[i].place = tokens.count > 0 && to->count < room ? (int)(to->count - start) : -1;
        cut += to->count >= room;
        for (k = 0; k < tokens.count && to->count < room; ++k) ft__ids_add(to, tokens.ids[k]);
    }
    for (k = 0; k < after; ++k) ft__ids_add(to, t->after[k]);
    if (to->count == start) ft__ids_add(to, t->unknown > 0 ? t->unknown : 0);
    ft__release(t->ids.context, work.letters);
    return cut;
}
