#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "text/tokenizers.h"
#include "text/words.h"
#include "data/tables.h"

/* =============================================================================================
   [SECTION] data/conll: CoNLL files: a class for each word
   A line is a word and its tag, as the first and the last column, separated by tabs or spaces; a
   line without either ends a sentence (Tjong Kim Sang and De Meulder 2003). Tags are O outside of
   entities, B-TYPE for the first word of one, and I-TYPE for the others. In older files (IOB1) an
   entity begins with I-TYPE unless one of its type ends just before: those become B-TYPE, which
   changes no entity.
   ============================================================================================= */
typedef struct ft__conll {
    ft__context *context;
    const char *path, *content;
    size_t bytes, at;
    char *owned;            /* the content, if converted from UTF-16 */
    int line;               /* the last one read, from 1 */
    ft__vocabulary *tags;   /* gets the tags that are found */
    bool pairs;             /* of each type that is found, both tags */
    int changed;            /* tags that were I-TYPE and became B-TYPE */
    ft__text text;          /* the sentence: its words, joined by spaces, and a 0 */
    ft__growing words;      /* its ft__words */
    ft__text tag;           /* work */
} ft__conll;

/* The parts of a line without the spaces and tabs around it. */
typedef struct ft__conll_line {
    const char *word, *tag;
    size_t word_bytes, tag_bytes; /* no word: the line is empty; no tag: it has one column */
} ft__conll_line;

static bool ft__is_blank(char letter) { return letter == ' ' || letter == '\t' || letter == '\r'; }

/* Columns are separated by tabs if the line has one, else by spaces. */
static ft__conll_line ft__conll_columns(const char *line, size_t bytes)
{
    ft__conll_line l = {line, NULL, 0, 0};
    const char *end;
    char separator;
    while (bytes > 0 && ft__is_blank(line[bytes - 1])) bytes -= 1;
    end = line + bytes;
    separator = bytes && memchr(line, '\t', bytes) ? '\t' : ' ';
    while (l.word < end && *l.word == ' ') l.word += 1;
    while (l.word + l.word_bytes < end && l.word[l.word_bytes] != separator) l.word_bytes += 1;
    if (l.word + l.word_bytes == end) return l;
    for (l.tag = end; l.tag[-1] != separator;) l.tag -= 1;
    while (l.tag < end && *l.tag == ' ') l.tag += 1;
    l.tag_bytes = (size_t)(end - l.tag);
    while (l.word_bytes > 0 && l.word[l.word_bytes - 1] == ' ') l.word_bytes -= 1;
    return l;
}

static bool ft__is_bio(const char *tag, size_t bytes)
{
    return (bytes == 1 && *tag == 'O')
        || (bytes > 2 && (*tag == 'B' || *tag == 'I') && tag[1] == '-');
}

static bool ft__is_document(const ft__conll_line *l)
{
    return l->word_bytes >= 10 && memcmp(l->word, "-DOCSTART-", 10) == 0;
}

/* Whether a file that may be anything is one of these: all of its first lines have a tag, some are
   outside of entities, and an empty line follows a word. */
static bool ft__looks_like_conll(const char *content, size_t bytes)
{
    enum { LINES = 1000 };
    const char *line;
    size_t at = 0, count, words = 0, outside = 0, ends = 0, lines;
    for (lines = 0; lines < LINES && ft__next_line(content, bytes, &at, &line, &count); ++lines) {
        ft__conll_line l = ft__conll_columns(line, count);
        if (l.word_bytes == 0 && l.tag_bytes == 0) ends += words > 0;
        else if (ft__is_document(&l)) continue;
        else if (l.word_bytes == 0 || !ft__is_bio(l.tag, l.tag_bytes)) return false;
        else {
            words += 1;
            outside += l.tag_bytes == 1;
        }
    }
    return outside > 0 && ends > 0;
}

static bool ft__conll_open(ft__conll *r, ft__context *c, const char *path, const char *content,
                           size_t bytes, ft__vocabulary *tags)
{
    ft__table whole;
    memset(r, 0, sizeof *r);
    r->context = r->text.context = r->tag.context = c;
    r->path = path;
    r->words.size = sizeof(ft__word);
    r->tags = tags;
    if (!ft__as_utf8(c, path, &content, &bytes, &r->owned)) return false;
    r->content = content;
    r->bytes = bytes;
    memset(&whole, 0, sizeof whole);
    whole.context = c;
    whole.path = path;
    whole.start = content;
    whole.end = content + bytes;
    whole.line_end = '\n';
    return ft__check_utf8(&whole);
}

static void ft__conll_close(ft__conll *r)
{
    ft__release(r->context, r->tag.letters);
    ft__release(r->context, r->words.at);
    ft__release(r->context, r->text.letters);
    ft__release(r->context, r->owned);
}

static int ft__tag_named(ft__conll *r, const char *tag, size_t bytes)
{
    int id = ft__vocabulary_find(r->tags, tag, bytes);
    if (id >= 0) return id;
    ft__vocabulary_add(r->tags, tag, bytes);
    return r->tags->count - 1;
}

/* The same tag with another first letter. */
static int ft__tag_as(ft__conll *r, char letter, const char *tag, size_t bytes)
{
    r->tag.count = 0;
    ft__text_add_bytes(&r->tag, &letter, 1);
    ft__text_add_bytes(&r->tag, tag + 1, bytes - 1);
    return ft__ok(r->context) ? ft__tag_named(r, r->tag.letters, bytes) : -1;
}

/* The tag of the sentence's next word. */
static int ft__conll_tag(ft__conll *r, const char *tag, size_t bytes)
{
    const ft__word *words = (const ft__word *)r->words.at;
    const char *last = r->words.count > 0
        ? ft__piece_text(r->tags, words[r->words.count - 1].tag) : "O";
    bool goes_on = strlen(last) == bytes && memcmp(last + 1, tag + 1, bytes - 1) == 0;
    char letter = *tag == 'I' && !goes_on ? 'B' : *tag;
    if (bytes == 1) return ft__tag_named(r, tag, bytes);
    r->changed += letter != *tag;
    if (r->pairs) ft__tag_as(r, letter == 'B' ? 'I' : 'B', tag, bytes);
    return ft__tag_as(r, letter, tag, bytes);
}

static void ft__conll_word(ft__conll *r, const ft__conll_line *l)
{
    ft__context *c = r->context;
    int tag;
    if (l->word_bytes == 0)
        ft__fail(c, FT_FORMAT, "%s: line %d has a tag without a word", r->path, r->line);
    else if (l->tag_bytes == 0)
        ft__fail(c, FT_FORMAT, "%s: line %d has 1 column; a word and its tag are expected,"
                 " separated by a tab or a space", r->path, r->line);
    else if (!ft__is_bio(l->tag, l->tag_bytes))
        ft__fail(c, FT_FORMAT, "%s: line %d: the tag is %.*s; it must be O, B-TYPE or I-TYPE",
                 r->path, r->line, (int)(l->tag_bytes > 60 ? 60 : l->tag_bytes), l->tag);
    if (!ft__ok(c)) return;
    tag = ft__conll_tag(r, l->tag, l->tag_bytes);
    if (r->words.count > 0) ft__text_add_bytes(&r->text, " ", 1);
    ft__word_add(c, &r->words, r->text.count, l->word_bytes, tag);
    ft__text_add_bytes(&r->text, l->word, l->word_bytes);
}

/* Reads the next sentence into r->text and r->words; false at the end, and with an error. */
static bool ft__conll_next(ft__conll *r)
{
    const char *line;
    size_t bytes;
    r->text.count = r->words.count = 0;
    while (ft__ok(r->context) && ft__next_line(r->content, r->bytes, &r->at, &line, &bytes)) {
        ft__conll_line l = ft__conll_columns(line, bytes);
        r->line += 1;
        if (ft__is_document(&l) || (l.word_bytes == 0 && l.tag_bytes == 0)) {
            if (r->words.count > 0) break;
        } else ft__conll_word(r, &l);
    }
    ft__text_add_bytes(&r->text, "", 1);
    return ft__ok(r->context) && r->words.count > 0;
}
