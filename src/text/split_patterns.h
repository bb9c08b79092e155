#pragma once
#include "platform/utf8.h"
#include "text/unicode.h"

/* =============================================================================================
   [SECTION] text/split_patterns: Patterns that split a text into words
   Byte-level BPE merges inside the words of a regular expression. Three of them are in use, each
   written out here as a function; they are recognised by their exact text (as llama.cpp does).
   ============================================================================================= */
typedef struct ft__split_pattern {
    const char *text;       /* the regular expression */
    bool gpt2;
    int digits;             /* most numbers of a word; 0: any number */
} ft__split_pattern;

#define FT__MODERN_PATTERN(numbers) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" \
    numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define FT__GPT2_PATTERN(endings) endings \
    "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static const ft__split_pattern ft__split_patterns[] = {
    {FT__GPT2_PATTERN("'s|'t|'re|'ve|'m|'ll|'d"), true, 0},     /* GPT-2, SmolLM, RoBERTa */
    {FT__GPT2_PATTERN("'(?:[sdmt]|ll|ve|re)"), true, 0},        /* the same, as tiktoken has it */
    {FT__MODERN_PATTERN("\\p{N}{1,3}"), false, 3},              /* Llama 3, cl100k */
    {FT__MODERN_PATTERN("\\p{N}"), false, 1}};                  /* Qwen2, Qwen3 */

enum { FT__SPLIT_PATTERNS = sizeof ft__split_patterns / sizeof ft__split_patterns[0] };

/* The class of a character in these patterns: L, N, space (FT__CONTROL here), or anything else. */
static int ft__pattern_class(uint32_t code, int taken)
{
    int k;
    if (code == FT__INVALID && taken == 1) return FT__OTHER;
    if (ft__unicode_space(code)) return FT__CONTROL;
    k = ft__unicode_class(code);
    return k == FT__LETTER || k == FT__NUMBER ? k : FT__OTHER;
}

/* The end of a run of at most `most` (0: any number of) characters of one class. *last: where its
   last character begins. */
static size_t ft__pattern_run(const char *text, size_t at, size_t bytes, int wanted, int most,
                              size_t *last)
{
    int taken, count = 0;
    for (*last = at; at < bytes && (most == 0 || count < most); at += (size_t)taken, ++count) {
        uint32_t code = ft__utf8_read(text + at, bytes - at, &taken);
        if (ft__pattern_class(code, taken) != wanted) break;
        *last = at;
    }
    return at;
}

static bool ft__line_end(char letter) { return letter == '\r' || letter == '\n'; }

/* The bytes of 's, 't, 're, 've, 'm, 'll or 'd at the text's begin; 0: none. With `any_case` also
   in capitals, and the long s (U+017F), whose capital is S. */
static size_t ft__contraction(const char *text, size_t bytes, bool any_case)
{
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    size_t i, k;
    if (bytes < 2 || text[0] != '\'') return 0;
    for (i = 0; i < sizeof endings / sizeof endings[0]; ++i) {
        size_t count = strlen(endings[i]);
        for (k = 0; k < count && k + 1 < bytes; ++k) {
            char l = text[k + 1];
            if (any_case && l >= 'A' && l <= 'Z') l = (char)(l + 32);
            if (l != endings[i][k]) break;
        }
        if (k == count) return count + 1;
    }
    return any_case && bytes > 2 && memcmp(text + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

/* The end of a word of white space: all of it, but the last character before other text, which
   belongs to the next word. Line ends, in newer patterns, are a word with what is before them. */
static size_t ft__space_word(const ft__split_pattern *p, const char *text, size_t at, size_t bytes)
{
    size_t last, end = ft__pattern_run(text, at, bytes, FT__CONTROL, 0, &last), line = end;
    while (line > at && !ft__line_end(text[line - 1])) line -= 1;
    if (!p->gpt2 && line > at) return line;
    return end == bytes || last == at ? end : last;
}

/* The end of the word that begins at `at`. */
static size_t ft__pattern_word(const ft__split_pattern *p, const char *text, size_t at,
                               size_t bytes)
{
    size_t count = ft__contraction(text + at, bytes - at, !p->gpt2), last, next;
    int taken, more, k, after = FT__CONTROL;
    uint32_t code = ft__utf8_read(text + at, bytes - at, &taken);
    if (count > 0) return at + count;
    k = ft__pattern_class(code, taken);
    next = at + (size_t)taken;
    if (next < bytes) {
        code = ft__utf8_read(text + next, bytes - next, &more);
        after = ft__pattern_class(code, more);
    }
    if (p->gpt2 && text[at] == ' ' && after != FT__CONTROL)
        return ft__pattern_run(text, next, bytes, after, 0, &last);
    if (!p->gpt2 && after == FT__LETTER && k != FT__NUMBER && !ft__line_end(text[at]))
        return ft__pattern_run(text, next, bytes, FT__LETTER, 0, &last);
    if (!p->gpt2 && text[at] == ' ' && after == FT__OTHER) {
        k = FT__OTHER;
        at = next;
    }
    if (k == FT__CONTROL) return ft__space_word(p, text, at, bytes);
    at = ft__pattern_run(text, at, bytes, k, k == FT__NUMBER ? p->digits : 0, &last);
    while (!p->gpt2 && k == FT__OTHER && at < bytes && ft__line_end(text[at])) at += 1;
    return at;
}
