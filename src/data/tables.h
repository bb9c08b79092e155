#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "text/unicode.h"
#include "text/tokenizers.h"

/* =============================================================================================
   [SECTION] data/tables: Tables
   Records of text and label from TSV, CSV (RFC 4180) or JSON Lines. The whole table is read once
   before any record is used, so that every fault has a line number, and all labels decide whether
   the first line is a header. If that is uncertain, it is an error that says which option to set.
   In TSV a quote is an ordinary letter; in CSV a field that begins with one ends with one.
   ============================================================================================= */
enum { FT__MOST_COLUMNS = 1024, FT__MOST_TEXT_COLUMNS = 16 };

typedef struct ft__table {
    ft__context *context;
    const char *path;
    const char *start, *at, *end; /* UTF-8, without a byte order mark */
    char *owned;            /* the memory of `start`, if converted from UTF-16 */
    char separator;         /* 0: JSON Lines */
    char line_end;
    int line, next_line;    /* the first line of this record and of the next one; from 1 */
    ft__text letters;       /* the fields of one record, a 0 after each */
    size_t fields[FT__MOST_COLUMNS];
    int count;              /* of fields */
    int columns, first_line;/* of the first record */
    const char *text_column, *label_column; /* from the options; or NULL */
    ft_table_header wanted_header; /* from the options */
    bool unlabelled, header;/* header: the first record is one */
    int text[FT__MOST_TEXT_COLUMNS], texts, label; /* which fields; label -1: none */
    bool wants_pair, no_pair, numbers;  /* from the options */
    bool pair;              /* the two text columns are the texts of a pair */
    const char *second;     /* of a record's pair; else NULL */
    ft__text keys;          /* JSON: the fields' names, a 0 after each */
    ft__text joined;        /* of several text columns */
    ft__text note;          /* says which columns were chosen */
} ft__table;

/* ---- Bytes to UTF-8 ---- */

static int ft__line_of(const char *text, const char *at, char line_end)
{
    int line = 1;
    for (; text < at; ++text)
        if (*text == line_end) line += 1;
    return line;
}

/* Converts UTF-16 with its byte order mark, as Excel saves "Unicode text", to UTF-8, which the
   caller releases; NULL with an error. */
static char *ft__from_utf16(ft__context *c, const char *path, const unsigned char *bytes,
                            size_t count, size_t *made)
{
    int high = bytes[0] == 0xfe ? 0 : 1; /* which byte of a unit is the high one */
    char *to = (char *)ft__allocate(c, 3 * (count / 2) + 4, 1);
    size_t i, at = 0;
    for (i = 2; to && i + 1 < count; i += 2) {
        uint32_t code = (uint32_t)bytes[i + (size_t)high] << 8 | bytes[i + 1 - (size_t)high];
        if (code >= 0xd800 && code < 0xdc00 && i + 3 < count) {
            uint32_t low = (uint32_t)bytes[i + 2 + (size_t)high] << 8
                | bytes[i + 3 - (size_t)high];
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        if (code >= 0xd800 && code < 0xe000) break;
        at += (size_t)ft__utf8_write(code, to + at);
    }
    if (to && i < count) {
        ft__fail(c, FT_FORMAT, "%s: damaged UTF-16: no character begins at byte %llu", path,
                 (unsigned long long)i);
        ft__release(c, to);
        to = NULL;
    }
    *made = at;
    return to;
}

/* Points *text to UTF-8: the bytes after a byte order mark, or *owned, converted from UTF-16. False
   with an error; a zero byte is one, since texts in memory end with a 0. */
static bool ft__as_utf8(ft__context *c, const char *path, const char **text, size_t *bytes,
                        char **owned)
{
    const unsigned char *b = (const unsigned char *)*text;
    const void *zero;
    *owned = NULL;
    if (*bytes >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff))) {
        *owned = ft__from_utf16(c, path, b, *bytes, bytes);
        *text = *owned;
    } else if (*bytes >= 3 && memcmp(b, "\xef\xbb\xbf", 3) == 0) {
        *text += 3;
        *bytes -= 3;
    }
    if (!ft__ok(c)) return false;
    zero = *bytes ? memchr(*text, 0, *bytes) : NULL;
    if (!zero) return true;
    ft__fail(c, FT_FORMAT, "%s: not a text: its byte %llu is zero, on line %d%s", path,
             (unsigned long long)((const char *)zero - (*owned ? *owned : (const char *)b)),
             ft__line_of(*text, (const char *)zero, '\n'),
             *owned ? "" : " (UTF-16 needs its byte order mark)");
    ft__release(c, *owned);
    *owned = NULL;
    return false;
}

static bool ft__check_utf8(const ft__table *t)
{
    const char *at = t->start;
    int taken;
    for (; at < t->end; at += taken)
        if (ft__utf8_read(at, (size_t)(t->end - at), &taken) == FT__INVALID && taken == 1) {
            ft__fail(t->context, FT_FORMAT, "%s: line %d: byte 0x%02x is not UTF-8 (Latin-1 or"
                     " Windows-1252?): save the file as UTF-8", t->path,
                     ft__line_of(t->start, at, t->line_end), (unsigned)(unsigned char)*at);
            return false;
        }
    return true;
}

/* ---- Records ---- */

static const char *ft__field_text(const ft__table *t, int field)
{
    return field >= 0 && field < t->count ? t->letters.letters + t->fields[field] : "";
}

static void ft__rewind(ft__table *t)
{
    t->at = t->start;
    t->line = 0;
    t->next_line = 1;
}

/* Does a quoted field that opened on `line` end correctly? */
static bool ft__quote_closed(ft__table *t, bool quoted, int line)
{
    if (quoted)
        ft__fail(t->context, FT_FORMAT, "%s: line %d: the quote that opens here is never closed",
                 t->path, line);
    else if (t->at < t->end && *t->at != t->separator && *t->at != t->line_end
             && !(*t->at == '\r' && (t->at + 1 == t->end || t->at[1] == t->line_end)))
        ft__fail(t->context, FT_FORMAT, "%s: line %d: there is text after the closing quote of a"
                 " field that opens on line %d; write a quote inside a quoted field twice", t->path,
                 t->next_line, line);
    return ft__ok(t->context);
}

/* Reads one field from `at` and moves past the separator. False: the record ends with it. */
static bool ft__table_field(ft__table *t)
{
    bool quoted = t->separator == ',' && t->at < t->end && *t->at == '"', was_quoted = quoted;
    int line = t->next_line;
    if (quoted) t->at += 1;
    while (t->at < t->end) {
        const char *from = t->at;
        char letter;
        while (t->at < t->end && *t->at != '"' && *t->at != t->separator && *t->at != '\n'
               && *t->at != '\r') t->at += 1;
        if (t->at > from) ft__text_add_bytes(&t->letters, from, (size_t)(t->at - from));
        if (t->at == t->end) break;
        letter = *t->at++;
        if (letter == t->line_end) t->next_line += 1;
        if (quoted && letter == '"') {
            quoted = t->at < t->end && *t->at == '"'; /* a doubled quote is one quote inside */
            if (!quoted && !ft__quote_closed(t, false, line)) return false;
            if (!quoted) continue;
            t->at += 1;
        } else if (!quoted && (letter == t->separator || letter == t->line_end)) {
            ft__text_add_bytes(&t->letters, "", 1);
            return letter == t->separator;
        } else if (!quoted && letter == '\r' && (t->at == t->end || *t->at == t->line_end))
            continue;
        ft__text_add_bytes(&t->letters, &letter, 1);
    }
    if (was_quoted && quoted) ft__quote_closed(t, true, line);
    ft__text_add_bytes(&t->letters, "", 1);
    return false;
}

static bool ft__next_line_record(ft__table *t)
{
    ft__context *c = t->context;
    bool more;
    do {
        t->count = 0;
        t->letters.count = 0;
        t->line = t->next_line;
        if (t->at >= t->end || !ft__ok(c)) return false;
        for (more = true; more && ft__ok(c);) {
            if (t->count == FT__MOST_COLUMNS) {
                ft__fail(c, FT_FORMAT, "%s: line %d has more than %d columns", t->path, t->line,
                         FT__MOST_COLUMNS);
                return false;
            }
            t->fields[t->count++] = t->letters.count;
            more = ft__table_field(t);
        }
    } while (ft__ok(c) && t->count == 1 && t->letters.count <= 1); /* skip empty lines */
    if (t->columns == 0) {
        t->columns = t->count;
        t->first_line = t->line;
    }
    if (ft__ok(c) && t->count != t->columns)
        ft__fail(c, FT_FORMAT, "%s: line %d has %d columns, line %d has %d%s", t->path, t->line,
                 t->count, t->first_line, t->columns, t->separator == ','
                 ? ": put a text that contains a comma in quotes" : "");
    return ft__ok(c);
}

static const char *ft__json_kind(const ft__json *json, int value)
{
    const char kind = value >= 0 ? json->values[value].kind : 0;
    return kind == 'o' ? "an object" : kind == 'a' ? "a list" : kind == 'n' ? "a number"
        : kind == 's' ? "a string" : kind == '0' ? "null" : "true or false";
}

/* Adds a value as a field. A text must be a string. A label may also be a number, with its digits
   as written, or a truth value. */
static bool ft__json_field(ft__table *t, const ft__json *json, const char *key, bool is_label,
                           const char *end)
{
    int value = ft__json_member(json, 0, key), i;
    const char *text = ft__json_string(json, value), *at;
    for (i = value < 0 ? INT_MAX : json->values[value].next; i < json->values[0].next;
         i = json->values[i].next)
        if (!strcmp(json->values[i].key, key)) {
            ft__fail(t->context, FT_FORMAT, "%s: line %d has \"%.100s\" twice", t->path, t->line,
                     key);
            return false;
        }
    if (text) {
        ft__text_add_bytes(&t->letters, text, strlen(text) + 1);
        return true;
    }
    if (is_label && ft__json_at(json, value, 'n')) {
        for (at = text = json->values[value].digits; at < end && strchr("+-.0123456789eE", *at);)
            ++at;
        ft__text_add_bytes(&t->letters, text, (size_t)(at - text));
        ft__text_add_bytes(&t->letters, "", 1);
        return true;
    }
    if (is_label && (ft__json_at(json, value, 't') || ft__json_at(json, value, 'f'))) {
        text = ft__json_true(json, value) ? "true" : "false";
        ft__text_add_bytes(&t->letters, text, strlen(text) + 1);
        return true;
    }
    if (value < 0)
        ft__fail(t->context, FT_FORMAT, "%s: line %d has no \"%.100s\"", t->path, t->line, key);
    else ft__fail(t->context, FT_FORMAT, "%s: line %d: \"%.100s\" is %s; a string%s is expected",
                  t->path, t->line, key, ft__json_kind(json, value),
                  is_label ? ", a number, true or false" : "");
    return false;
}

/* The keys of the first object are the names of the columns. */
static void ft__json_names(ft__table *t, const ft__json *json)
{
    const ft__json_value *object = ft__json_at(json, 0, 'o');
    int i;
    for (i = 1; object && i < object->next && t->count < FT__MOST_COLUMNS;
         i = json->values[i].next) {
        t->fields[t->count++] = t->letters.count;
        ft__text_add_bytes(&t->letters, json->values[i].key, strlen(json->values[i].key) + 1);
    }
}

/* Reads the next object: its texts, then its label; before the columns are chosen, its keys. */
static bool ft__next_json_record(ft__table *t)
{
    ft__context *c = t->context;
    const char *line, *key = t->keys.letters;
    size_t at = (size_t)(t->at - t->start), bytes = (size_t)(t->end - t->start), count, fault;
    ft__json *json;
    int i, keys = t->texts + (t->label >= 0 ? 1 : 0);
    t->count = 0;
    t->letters.count = 0;
    do {
        if (!ft__ok(c) || !ft__next_line(t->start, bytes, &at, &line, &count)) return false;
        t->at = t->start + ft__min_size(at, bytes);
        t->line = t->next_line++;
        for (i = 0; (size_t)i < count && strchr(" \t\r", line[i]); ++i) {}
    } while ((size_t)i == count);
    json = ft__json_parse_at(c, line, count, &fault);
    if (ft__ok(c) && !json)
        ft__fail(c, FT_FORMAT, "%s: line %d is not JSON: error at byte %llu of the line", t->path,
                 t->line, (unsigned long long)fault);
    else if (ft__ok(c) && !ft__json_at(json, 0, 'o'))
        ft__fail(c, FT_FORMAT, "%s: line %d is %s; in JSON Lines each line must be an object",
                 t->path, t->line, ft__json_kind(json, 0));
    if (ft__ok(c) && keys == 0) ft__json_names(t, json);
    for (i = 0; ft__ok(c) && i < keys; ++i, key += strlen(key) + 1) {
        t->fields[t->count++] = t->letters.count;
        if (!ft__json_field(t, json, key, i == t->texts, line + count)) break;
    }
    ft__json_free(c, json);
    return ft__ok(c);
}

static bool ft__next_record(ft__table *t)
{
    return t->separator ? ft__next_line_record(t) : ft__next_json_record(t);
}

/* ---- Columns ---- */
static const char *const ft__text_names[] = {"text", "sentence", "review", "content", "tweet",
    "headline", "title", "message", "comment", "document", "body", "description", "question",
    "utterance", "post", NULL};
static const char *const ft__label_names[] = {"label", "class", "category", "sentiment", "target",
    "labels", "topic", "intent", "emotion", "polarity", "tag", "score", "rating", NULL};

/* Two columns of these names hold the texts of a pair. */
static const char *const ft__pair_names[][2] = {
    {"sentence1", "sentence2"}, {"sentence_1", "sentence_2"}, {"sentence_A", "sentence_B"},
    {"premise", "hypothesis"}, {"question1", "question2"}, {"question", "sentence"},
    {"text1", "text2"}, {"text_1", "text_2"}, {"text_a", "text_b"}, {"query", "passage"},
    {"query", "document"}, {"query", "positive"}, {"anchor", "positive"}};

static char ft__lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

/* Compares names; ignores spaces around the field and, with `any_case`, the case. */
static bool ft__same_name(const char *field, const char *name, size_t bytes, bool any_case)
{
    size_t count = strlen(field), i;
    for (; count > 0 && *field == ' '; --count) field += 1;
    while (count > 0 && field[count - 1] == ' ') --count;
    if (count != bytes) return false;
    for (i = 0; i < bytes; ++i)
        if (field[i] != name[i] && !(any_case && ft__lower(field[i]) == ft__lower(name[i])))
            return false;
    return true;
}

/* The column of this name: an exact match before one in another case. -1: none; -2: several. */
static int ft__named_column(const ft__table *t, const char *name, size_t bytes)
{
    int any_case, f, found = -1;
    for (any_case = 0; any_case < 2 && found == -1; ++any_case)
        for (f = 0; f < t->count; ++f)
            if (ft__same_name(ft__field_text(t, f), name, bytes, any_case != 0))
                found = found == -1 ? f : -2;
    return found;
}

static int ft__known_column(const ft__table *t, const char *const *names)
{
    int n, f;
    for (n = 0; names[n]; ++n)
        for (f = 0; f < t->count; ++f)
            if (ft__same_name(ft__field_text(t, f), names[n], strlen(names[n]), true)) return f;
    return -1;
}

/* Finds the columns of a pair by their names. */
static bool ft__known_pair(const ft__table *t, int pair[2])
{
    const char *one[2] = {NULL, NULL};
    size_t n;
    int k;
    for (n = 0; n < sizeof ft__pair_names / sizeof ft__pair_names[0]; ++n) {
        for (k = 0; k < 2; ++k) {
            one[0] = ft__pair_names[n][k];
            pair[k] = ft__known_column(t, one);
        }
        if (pair[0] >= 0 && pair[1] >= 0) return !t->no_pair;
    }
    return false;
}

/* Lists the fields of the first record, for a message. */
static const char *ft__column_list(const ft__table *t, char list[200])
{
    size_t at = 0;
    int f;
    list[0] = 0;
    for (f = 0; f < t->count && at < 140; ++f)
        at += (size_t)snprintf(list + at, 200 - at, "%s%.40s", f ? ", " : "",
                               ft__field_text(t, f));
    if (f < t->count) snprintf(list + at, 200 - at, ", ...");
    return list;
}

static bool ft__no_such_column(const ft__table *t, const char *wanted, size_t bytes, bool several)
{
    char list[200];
    int count = bytes > 100 ? 100 : (int)bytes;
    if (t->separator && t->wanted_header == FT_HEADER_NO)
        ft__fail(t->context, FT_INVALID, "%s: a column is given by name, %.*s, but header says that"
                 " there is no header line: give its number, from 1", t->path, count, wanted);
    else ft__fail(t->context, FT_FORMAT, "%s: line %d has %s named %.*s: %s%s", t->path, t->line,
                  several ? "several columns" : "no column", count, wanted,
                  ft__column_list(t, list),
                  t->separator ? " (a column may also be a number, from 1)" : "");
    return false;
}

/* A column's number from 1, as in cut and awk, as an index. A number that is too small or too large
   may be a name, but only if the user says that there is a header. -1 with an error. */
static int ft__numbered_column(const ft__table *t, const char *wanted, size_t bytes, bool *named)
{
    int number = 0, column = -1;
    size_t i;
    for (i = 0; i < bytes && number < FT__MOST_COLUMNS; ++i) number = 10 * number + wanted[i] - '0';
    if (number >= 1 && number <= t->count) return number - 1;
    if (t->wanted_header == FT_HEADER_YES) column = ft__named_column(t, wanted, bytes);
    if (column >= 0) *named = true;
    else ft__fail(t->context, FT_FORMAT, "%s: column %.*s was not found: line %d has %d column%s,"
                  " which count from 1", t->path, bytes > 100 ? 100 : (int)bytes, wanted, t->line,
                  t->count, t->count == 1 ? "" : "s");
    return column < 0 ? -1 : column;
}

/* The column that an option asks for, by number or by name. Sets *named for a name. -1 with an
   error. */
static int ft__wanted_column(ft__table *t, const char *wanted, size_t bytes, bool *named)
{
    int column;
    if (bytes > 0 && strspn(wanted, "0123456789") >= bytes && t->separator)
        return ft__numbered_column(t, wanted, bytes, named);
    column = ft__named_column(t, wanted, bytes);
    if (column < 0 || (t->separator && t->wanted_header == FT_HEADER_NO))
        return ft__no_such_column(t, wanted, bytes, column == -2) ? 0 : -1;
    *named = true;
    return column;
}

/* text_column: one, or several separated by commas. */
static bool ft__wanted_texts(ft__table *t, bool *named)
{
    const char *at = t->text_column;
    bool numbers = t->separator && !at[strspn(at, "0123456789,")];
    int whole = numbers ? -1 : ft__named_column(t, at, strlen(at)); /* with a comma in its name */
    if (whole >= 0 && !(t->separator && t->wanted_header == FT_HEADER_NO)) {
        t->text[t->texts++] = whole;
        *named = true;
        return true;
    }
    for (;; ++at) {
        size_t bytes = strcspn(at, ",");
        int column;
        if (t->texts == FT__MOST_TEXT_COLUMNS)
            ft__fail(t->context, FT_INVALID, "%s: more than %d text columns are not supported",
                     t->path, FT__MOST_TEXT_COLUMNS);
        column = ft__ok(t->context) ? ft__wanted_column(t, at, bytes, named) : -1;
        if (column < 0) return false;
        t->text[t->texts++] = column;
        at += bytes;
        if (!*at) return true;
    }
}

static bool ft__is_text_column(const ft__table *t, int column)
{
    int i;
    for (i = 0; i < t->texts; ++i)
        if (t->text[i] == column) return true;
    return false;
}

/* The only column besides `taken` and the texts; -1: none or several. */
static int ft__other_column(const ft__table *t, int taken)
{
    int f, found = -1;
    for (f = 0; f < t->count; ++f) {
        if (f == taken || ft__is_text_column(t, f)) continue;
        if (found >= 0) return -1;
        found = f;
    }
    return found;
}

static bool ft__which_column(ft__table *t, const char *what)
{
    char list[200];
    ft__column_list(t, list);
    if (t->header)
        ft__fail(t->context, FT_FORMAT, "%s: line %d has the columns %s: which is the %s? Set"
                 " %s_column (--%s-column)", t->path, t->line, list, what, what, what);
    else ft__fail(t->context, FT_FORMAT, "%s: line %d (%s) has no known column name: set %s_column"
                  " (--%s-column) to the number of the %s column", t->path, t->line, list, what,
                  what, what);
    return false;
}

/* The text columns are a pair if their names are a known pair's, or the options say so. */
static void ft__choose_pair(ft__table *t, const int *known)
{
    bool chosen = known && t->texts == 2 && ft__is_text_column(t, known[0])
        && ft__is_text_column(t, known[1]);
    t->pair = chosen || (known && t->texts == 0) || (t->wants_pair && t->texts == 2);
    if (known && t->texts == 0) {
        t->text[t->texts++] = known[0];
        t->text[t->texts++] = known[1];
    }
    if (t->wants_pair && !t->pair)
        ft__fail(t->context, FT_INVALID, "%s: a pair needs two text columns, but text_column names"
                 " %d: set it to both (--text-column a,b)", t->path, t->texts);
}

/* Chooses the columns from the first record. With FT_HEADER_AUTO it is a header if the options name
   a column, or if it has a usual name; t->header says so. */
static bool ft__choose_columns(ft__table *t, ft_table_header header)
{
    bool named = false, known_pair;
    int pair[2] = {-1, -1}, known_text = ft__known_column(t, ft__text_names);
    int known_label = ft__known_column(t, ft__label_names);
    t->texts = 0;
    t->label = -1;
    if (t->text_column && !ft__wanted_texts(t, &named)) return false;
    if (t->label_column)
        t->label = ft__wanted_column(t, t->label_column, strlen(t->label_column), &named);
    if (!ft__ok(t->context)) return false;
    known_pair = ft__known_pair(t, pair);
    t->header = named || header == FT_HEADER_YES || t->separator == 0
        || (header == FT_HEADER_AUTO && (known_text >= 0 || known_label >= 0 || known_pair));
    if (!t->header) known_text = known_label = -1;
    known_pair = known_pair && t->header && pair[0] != t->label && pair[1] != t->label;
    ft__choose_pair(t, known_pair ? pair : NULL);
    if (known_text == t->label) known_text = -1;
    if (t->label < 0 && !ft__is_text_column(t, known_label)) t->label = known_label;
    if (t->texts == 0 && known_text < 0 && (t->header || t->count == 2 || t->label >= 0))
        known_text = t->label < 0 && t->count == 2 ? 0 : ft__other_column(t, t->label);
    if (t->texts == 0 && known_text < 0 && t->count == 1) known_text = 0;
    if (!ft__ok(t->context)) return false;
    if (t->texts == 0 && known_text < 0) return ft__which_column(t, "text");
    if (t->texts == 0) t->text[t->texts++] = known_text;
    if (t->label < 0 && !t->unlabelled) t->label = ft__other_column(t, -1);
    if (t->unlabelled) t->label = -1;
    else if (t->count == 1 && t->separator) {
        ft__fail(t->context, FT_FORMAT, "%s: line %d has only 1 column; a text and a label are"
                 " expected, separated by a %s", t->path, t->line,
                 t->separator == ',' ? "comma" : "tab");
        return false;
    } else if (t->label < 0) return ft__which_column(t, "label");
    if (!ft__is_text_column(t, t->label)) return true;
    ft__fail(t->context, FT_INVALID, "%s: column %d cannot be both text and label", t->path,
             t->label + 1);
    return false;
}

/* JSON: later records are read as these keys, in this order. */
static void ft__choose_keys(ft__table *t)
{
    int i;
    t->keys.count = 0;
    for (i = 0; i < t->texts; ++i) {
        const char *key = ft__field_text(t, t->text[i]);
        ft__text_add_bytes(&t->keys, key, strlen(key) + 1);
        t->text[i] = i;
    }
    if (t->label < 0) return;
    ft__text_add_bytes(&t->keys, ft__field_text(t, t->label),
                       strlen(ft__field_text(t, t->label)) + 1);
    t->label = t->texts;
}

static void ft__note_column(ft__table *t, const char *what, int column)
{
    const char *key = ft__field_text(t, column);
    ft__text_add(&t->note, "%s", what);
    if (t->separator) ft__text_add(&t->note, "column %d", column + 1);
    if (t->header) ft__text_add(&t->note, t->separator ? " \"%.60s\"" : "\"%.60s\"", key);
}

/* "text from column 1 "title" and column 2 "body", joined by a space; label from ..." */
static void ft__note_columns(ft__table *t)
{
    int i;
    t->note.count = 0;
    for (i = 0; i < t->texts; ++i)
        ft__note_column(t, i ? " and " : t->pair ? "pair from " : "text from ", t->text[i]);
    if (t->texts > 1 && !t->pair) ft__text_add(&t->note, ", joined by a space");
    if (t->label >= 0) ft__note_column(t, ", label from ", t->label);
    if (t->separator)
        ft__text_add(&t->note, t->header ? "; line %d is a header" : "; line %d is not a header",
                     t->first_line);
}

/* ---- Reading it through ---- */
typedef struct ft__values { /* the values of a column */
    ft__vocabulary values;
    int *times;             /* of each value: how many records have it */
    int capacity, records;
    int first;              /* the first record's value; -1: empty */
    bool numbers;           /* all other values are numbers */
} ft__values;

static void ft__values_add(ft__context *c, ft__values *v, const char *value)
{
    int id = ft__vocabulary_find(&v->values, value, strlen(value));
    if (id < 0) {
        id = v->values.count;
        ft__vocabulary_add(&v->values, value, strlen(value));
        if (id == v->capacity) {
            int *times = (int *)ft__grow(c, v->times, (size_t)id, 2 * (size_t)id + 64,
                                         sizeof *times);
            if (!times) return;
            v->times = times;
            v->capacity = 2 * id + 64;
        }
    }
    if (!ft__ok(c)) return;
    v->times[id] += 1;
    v->records += 1;
    if (id != v->first && value[strspn(value, "+-.0123456789")]) v->numbers = false;
}

/* Counts the values of a column from the first record on; in the label column none may be empty.
   Checks every record. False with an error. */
static bool ft__read_through(ft__table *t, int column, ft__values *v)
{
    bool is_label = column == t->label;
    int record = 0;
    ft__rewind(t);
    memset(v, 0, sizeof *v);
    v->values.context = v->values.letters.context = t->context;
    v->numbers = true;
    for (; ft__next_record(t); ++record) {
        const char *value = ft__field_text(t, column);
        bool is_name = record == 0 && t->header && t->separator;
        if (column < 0) continue;
        if (is_label && !is_name && !value[strspn(value, " \t\r\n")]) {
            ft__fail(t->context, FT_FORMAT, "%s: line %d: the label is empty (%s)", t->path,
                     t->line, t->note.letters);
            return false;
        }
        if (record == 0) v->first = *value ? 0 : -1;
        if (*value) ft__values_add(t->context, v, value);
    }
    return ft__ok(t->context);
}

static void ft__values_free(ft__context *c, ft__values *v)
{
    ft__release(c, v->times);
    ft__vocabulary_release(&v->values);
}

/* Whether all labels from this one on are numbers; *fraction: one of them that is not whole, and so
   is seldom a class; else NULL. */
static bool ft__are_numbers(const ft__vocabulary *labels, int from, const char **fraction)
{
    double number;
    int i;
    *fraction = NULL;
    for (i = from; i < labels->count; ++i) {
        if (!ft__read_number_text(ft__piece_text(labels, i), &number)) return false;
        if (number != floor(number) && !*fraction) *fraction = ft__piece_text(labels, i);
    }
    return labels->count > from;
}

/* A first line may be a header, although it names no known column: if its label occurs on no other
   line while all other labels repeat, or if only its label is not a number. Only the user knows. */
static bool ft__may_be_header(const ft__values *v)
{
    const char *first;
    int i;
    if (v->records < 5 || v->values.count < 2 || v->first < 0 || v->times[0] != 1) return false;
    first = ft__piece_text(&v->values, 0);
    if (v->numbers && first[strspn(first, "+-.0123456789")]) return true;
    for (i = 1; i < v->values.count; ++i)
        if (v->times[i] < 2) return false;
    return true;
}

/* The label column was chosen by position: it may be the text's instead, if only the other column
   repeats its values. */
static bool ft__columns_swapped(ft__table *t, const ft__values *labels)
{
    ft__values other;
    bool swapped;
    if (t->header || t->columns != 2 || t->text_column || t->label_column || labels->records < 4
        || 2 * labels->values.count <= labels->records) return false;
    swapped = ft__read_through(t, t->text[0], &other) && 2 * other.values.count <= other.records;
    if (swapped)
        ft__fail(t->context, FT_FORMAT, "%s: which column is the label? Column 2 has %d different"
                 " values on %d lines, column 1 has %d: set text_column and label_column"
                 " (--text-column, --label-column)", t->path, labels->values.count,
                 labels->records, other.values.count);
    ft__values_free(t->context, &other);
    return swapped;
}

/* Returns to the first record and chooses the columns from it. */
static bool ft__first_record(ft__table *t, ft_table_header header)
{
    ft__rewind(t);
    t->texts = 0;
    t->label = -1;
    if (!ft__next_record(t)) return false; /* no records, or an error */
    if (!ft__choose_columns(t, header)) return false;
    ft__note_columns(t);
    if (!t->separator) ft__choose_keys(t);
    return ft__ok(t->context);
}

/* Labels that differ in capitals or spaces only are other classes, but seldom meant to be. */
static void ft__warn_of_like_labels(const ft__table *t, const ft__values *v)
{
    int i, j;
    for (i = t->header && t->separator ? 1 : 0; i < v->values.count && v->values.count < 1000; ++i)
        for (j = i + 1; j < v->values.count; ++j) {
            const char *a = ft__piece_text(&v->values, i), *b = ft__piece_text(&v->values, j);
            size_t bytes = strlen(b);
            for (; bytes > 0 && *b == ' '; --bytes) b += 1;
            while (bytes > 0 && b[bytes - 1] == ' ') --bytes;
            if (!ft__same_name(a, b, bytes, true)) continue;
            ft__log(t->context, "%s: warning: the labels \"%.60s\" and \"%.60s\" are two different"
                    " classes", t->path, a, ft__piece_text(&v->values, j));
            return;
        }
}

/* Do the options name a column, so that there must be a header? */
static bool ft__names_column(const ft__table *t)
{
    return (t->text_column && t->text_column[strspn(t->text_column, "0123456789,")])
        || (t->label_column && t->label_column[strspn(t->label_column, "0123456789")]);
}

/* Decides whether the first line is a header. Returns false with an error, or if the labels must be
   counted again. */
static bool ft__header_settled(ft__table *t, const ft__values *labels, bool known_classes)
{
    bool first_again = labels->first >= 0 && labels->times[labels->first] > 1;
    if (t->header && first_again && !ft__names_column(t)) {
        ft__first_record(t, FT_HEADER_NO); /* its label is one of the classes */
        return false;
    }
    if (t->header || known_classes || !ft__may_be_header(labels)) return true;
    ft__fail(t->context, FT_FORMAT, "%s: is line %d a header? Its label, %.60s, is on no other"
             " line: set header (--header yes or no)", t->path, t->first_line,
             ft__piece_text(&labels->values, labels->first));
    return false;
}

/* Reads every record and decides on the header and the columns. */
static void ft__table_check(ft__table *t, ft_table_header header, bool known_classes)
{
    ft__context *c = t->context;
    ft__values labels;
    const char *fraction = NULL;
    int classes, records;
    if (!ft__check_utf8(t) || !ft__first_record(t, header)) return;
    if (ft__read_through(t, t->label, &labels) && t->label >= 0 && t->separator
        && header == FT_HEADER_AUTO && !ft__header_settled(t, &labels, known_classes)
        && ft__ok(c)) {
        ft__values_free(c, &labels);
        ft__read_through(t, t->label, &labels);
    }
    records = labels.records - (t->header && t->separator ? 1 : 0);
    classes = labels.values.count - (t->header && t->separator ? 1 : 0);
    if (ft__ok(c) && t->label >= 0 && !known_classes && !ft__columns_swapped(t, &labels)
        && ft__ok(c) && !t->numbers
        && !(ft__are_numbers(&labels.values, labels.values.count - classes, &fraction)
             && fraction)) {
        ft__warn_of_like_labels(t, &labels);
        if (records >= 4 && 2 * classes > records)
            ft__log(c, "%s: warning: %d classes in %d texts: is this the label column? (%s)",
                    t->path, classes, records, t->note.letters);
    }
    ft__values_free(c, &labels);
}

/* ---- Reading it ---- */

/* Opens a table, whose bytes must stay in place; false with an error. An empty table is no error.
   `known_classes`: the labels will be compared with a list. */
static bool ft__table_open(ft__table *t, ft__context *c, const char *path, const char *bytes,
                           size_t count, const ft_text_options *o)
{
    const char *name = o->format ? o->format : path;
    memset(t, 0, sizeof *t);
    t->context = t->letters.context = t->keys.context = c;
    t->joined.context = t->note.context = c;
    t->path = path;
    t->label = -1;
    t->text_column = o->text_column;
    t->label_column = o->label_column;
    t->unlabelled = o->unlabelled;
    t->wanted_header = o->header;
    t->wants_pair = o->pair;
    t->numbers = o->task == FT_TASK_REGRESSION;
    t->no_pair = o->task == FT_TASK_LANGUAGE_MODEL || o->task == FT_TASK_TOKENS;
    if (o->format && strcmp(name, "tsv") && strcmp(name, "csv") && strcmp(name, "jsonl")) {
        ft__fail(c, FT_INVALID, "%s: format is \"%s\"; it must be \"tsv\", \"csv\" or \"jsonl\"",
                 path, name);
        return false;
    }
    t->separator = ft__ends_with(name, "csv") ? ',' : '\t';
    if (ft__ends_with(name, "json") || ft__ends_with(name, "jsonl")) t->separator = 0;
    if (!ft__as_utf8(c, path, &bytes, &count, &t->owned)) return false;
    t->start = bytes;
    t->end = bytes + count;
    t->line_end = count && !memchr(bytes, '\n', count) && memchr(bytes, '\r', count) ? '\r' : '\n';
    ft__table_check(t, o->header, o->match_classes || o->classes_of);
    ft__rewind(t);
    if (ft__ok(c) && t->header && t->separator) ft__next_record(t);
    return ft__ok(c);
}

/* Reads the next record's text and label ("" without labels). False after the last record. */
static bool ft__table_next(ft__table *t, const char **text, const char **label)
{
    int i;
    if (!ft__next_record(t)) return false;
    *text = ft__field_text(t, t->text[0]);
    *label = ft__field_text(t, t->label);
    t->second = t->pair ? ft__field_text(t, t->text[1]) : NULL;
    if (t->texts == 1 || t->pair) return true;
    t->joined.count = 0;
    for (i = 0; i < t->texts; ++i) {
        const char *part = ft__field_text(t, t->text[i]);
        if (i) ft__text_add_bytes(&t->joined, " ", 1);
        ft__text_add_bytes(&t->joined, part, strlen(part));
    }
    *text = t->joined.letters;
    return ft__ok(t->context);
}

static void ft__table_close(ft__table *t)
{
    ft__release(t->context, t->note.letters);
    ft__release(t->context, t->joined.letters);
    ft__release(t->context, t->keys.letters);
    ft__release(t->context, t->letters.letters);
    ft__release(t->context, t->owned);
}
