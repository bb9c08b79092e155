#pragma once
#include "platform/formatting.h"
#include "platform/utf8.h"
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/strings: Strings
   ============================================================================================= */
static char *ft__copy_text(ft__context *c, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = (char *)ft__allocate(c, bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

/* A name as model files can hold it: UTF-8. */
static char *ft__copy_name(ft__context *c, const char *name)
{
    size_t room = strlen(name) + 1;
    char *copy;
    if (!ft__utf8_valid(name, room - 1)) room = 4 * room; /* a byte becomes 4 at most */
    copy = (char *)ft__allocate(c, room, 1);
    if (copy) ft__clean_text(name, false, copy, room);
    return copy;
}

/* A class's name, or its number if it has no name. */
static const char *ft__name_or_number(const char *name, int number, char text[12])
{
    if (name) return name;
    snprintf(text, 12, "%d", number);
    return text;
}

/* [a-z] or [!a-z]; returns the pattern after it, or NULL if it does not match. */
static const char *ft__glob_set(const char *pattern, char letter)
{
    bool inverted = *pattern == '!', found = false;
    if (inverted) ++pattern;
    while (*pattern && *pattern != ']') {
        if (pattern[1] == '-' && pattern[2] && pattern[2] != ']') {
            if (letter >= pattern[0] && letter <= pattern[2]) found = true;
            pattern += 3;
        } else {
            if (*pattern == letter) found = true;
            ++pattern;
        }
    }
    if (*pattern != ']' || found == inverted) return NULL;
    return pattern + 1;
}

/* Matches one pattern, up to `end`, against a whole text. Linear apart from one remembered star. */
static bool ft__glob_one(const char *pattern, const char *end, const char *text)
{
    const char *star = NULL, *star_text = NULL;
    while (*text || pattern < end) {
        const char *next = NULL;
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            star_text = text;
            continue;
        }
        if (pattern < end && *text) {
            if (*pattern == '[') next = ft__glob_set(pattern + 1, *text);
            else if (*pattern == '?' || *pattern == *text) next = pattern + 1;
        }
        if (next && next <= end) {
            pattern = next;
            ++text;
        } else if (star && *star_text) {
            pattern = star;
            text = ++star_text;
        } else return false;
    }
    return true;
}

/* Adds a name to a text that lists some, "a, b"; what has no room is left out. */
static void ft__add_name(char *list, size_t size, const char *name)
{
    size_t length = strlen(list);
    snprintf(list + length, size - length, "%s%s", length ? ", " : "", name);
}

/* Commas separate several patterns. */
static bool ft__glob(const char *patterns, const char *text)
{
    while (patterns && *patterns) {
        const char *end = patterns;
        while (*end && *end != ',') ++end;
        if (ft__glob_one(patterns, end, text)) return true;
        patterns = *end ? end + 1 : end;
    }
    return false;
}

/* Whether the letter, ? or [set] at `pattern` matches this letter; *next: the pattern after it. */
static bool ft__glob_letter(const char *pattern, const char *end, char letter, const char **next)
{
    const char *close = *pattern == '[' ? (const char *)memchr(pattern, ']',
                                                               (size_t)(end - pattern)) : NULL;
    *next = close ? close + 1 : pattern + 1;
    if (close) return ft__glob_set(pattern + 1, letter) != NULL;
    return *pattern == '?' || *pattern == letter;
}

/* The number of letters to insert, delete, replace or swap with the next for one pattern to match a
   text (Damerau 1964, Levenshtein 1966); what a star matches costs nothing. Only the first 127
   letters of the text count. */
static int ft__glob_distance(const char *pattern, const char *end, const char *text)
{
    int rows[3][128], count = 0, row, j; /* [letters of the pattern so far, % 3][of the text] */
    const char *next, *before = NULL;
    for (; count < 127 && text[count]; ++count) rows[0][count] = count;
    rows[0][count] = count;
    for (row = 1; pattern < end; before = pattern, pattern = next, ++row) {
        const int *older = rows[(row + 1) % 3], *old = rows[(row + 2) % 3];
        int *cost = rows[row % 3];
        bool star = *pattern == '*';
        ft__glob_letter(pattern, end, 0, &next);
        cost[0] = old[0] + !star;
        for (j = 1; j <= count; ++j) {
            cost[j] = star ? old[j] : old[j] + 1;
            if (cost[j - 1] + !star < cost[j]) cost[j] = cost[j - 1] + !star;
            if (star) continue;
            if (old[j - 1] + !ft__glob_letter(pattern, end, text[j - 1], &next) < cost[j])
                cost[j] = old[j - 1] + !ft__glob_letter(pattern, end, text[j - 1], &next);
            if (before && j > 1 && *before == text[j - 1] && *pattern == text[j - 2]
                && older[j - 2] + 1 < cost[j]) cost[j] = older[j - 2] + 1;
        }
    }
    return rows[(row + 2) % 3][count];
}

/* A text that grows: check ft__ok(context) once at the end. `letters` ends with a 0. */
typedef struct ft__text {
    ft__context *context;
    char *letters;
    size_t count, capacity;
} ft__text;

static void ft__text_add_bytes(ft__text *text, const char *bytes, size_t count)
{
    if (text->capacity - text->count < count + 1) {
        size_t capacity = 2 * text->capacity + count + 64;
        char *grown = (char *)ft__grow(text->context, text->letters, text->count, capacity, 1);
        if (!grown) return;
        text->letters = grown;
        text->capacity = capacity;
    }
    memcpy(text->letters + text->count, bytes, count);
    text->count += count;
    text->letters[text->count] = 0;
}

static FT__PRINTF(2, 3) void ft__text_add(ft__text *text, const char *format, ...)
{
    char piece[512];
    va_list arguments;
    int count;
    va_start(arguments, format);
    count = ft__vprint(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (count < 0) return;
    if ((size_t)count >= sizeof piece) count = (int)sizeof piece - 1;
    ft__text_add_bytes(text, piece, (size_t)count);
}

static bool ft__ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* The next line, without its line end; moves *at past it. Returns false after the last line. */
static FT__UNUSED bool ft__next_line(const char *text, size_t bytes, size_t *at,
                                     const char **line, size_t *count)
{
    const char *end;
    if (*at >= bytes) return false;
    *line = text + *at;
    end = (const char *)memchr(*line, '\n', bytes - *at);
    *count = end ? (size_t)(end - *line) : bytes - *at;
    *at += *count + 1;
    if (*count > 0 && (*line)[*count - 1] == '\r') *count -= 1;
    return true;
}
