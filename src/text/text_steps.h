#pragma once
#include "interface/types.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "text/unicode.h"
#include "text/normal_forms.h"
#include "text/split_patterns.h"

/* =============================================================================================
   [SECTION] text/text_steps: Steps before and after a tokeniser's model
   As in Hugging Face's tokenizer.json: normalizers change a text, pre-tokenizers split it into
   words, decoders turn pieces into text again. Each is a row of a table, and a tokeniser has a list
   of them. What a file asks for and is not in the table is refused by name.
   ============================================================================================= */

/* ---- Words ---- */
typedef struct ft__words {
    ft__text text;          /* one word after the other */
    size_t *ends;           /* [count]: of each word in text */
    size_t count, capacity;
    bool at_start;          /* the first word begins where the text began */
    ft__codes *codes;       /* work of normal forms */
} ft__words;

/* Ends the word that was added to w->text; an empty one is none. */
static void ft__end_word(ft__words *w)
{
    if (w->text.count == (w->count > 0 ? w->ends[w->count - 1] : 0)) return;
    if (w->count == w->capacity) {
        size_t capacity = 2 * w->capacity + 16;
        size_t *grown = (size_t *)ft__grow(w->text.context, w->ends, w->count, capacity,
                                           sizeof *grown);
        if (!grown) return;
        w->ends = grown;
        w->capacity = capacity;
    }
    w->ends[w->count++] = w->text.count;
}

static void ft__add_word(ft__words *w, const char *text, size_t bytes)
{
    ft__text_add_bytes(&w->text, text, bytes);
    ft__end_word(w);
}

static const char *ft__word_of(const ft__words *w, size_t index, size_t *bytes)
{
    size_t from = index > 0 ? w->ends[index - 1] : 0;
    *bytes = w->ends[index] - from;
    return w->text.letters + from;
}

static void ft__clear_words(ft__words *w)
{
    w->text.count = w->count = 0;
    w->at_start = true;
}

static void ft__release_words(ft__words *w)
{
    if (!w->text.context) return;
    ft__release(w->text.context, w->ends);
    ft__release(w->text.context, w->text.letters);
}

/* ---- Steps ---- */
enum { FT__PREPEND_ALWAYS, FT__PREPEND_FIRST, FT__PREPEND_NEVER };
enum { FT__MOST_STEPS = 12, FT__STEP_TEXT = 32 };

typedef struct ft__text_step {
    const struct ft__step_kind *kind;
    bool flag[4];
    int number[2];          /* a choice, or how many */
    const ft__split_pattern *pattern;
    char text[2][FT__STEP_TEXT];
} ft__text_step;

typedef struct ft__text_steps { ft__text_step list[FT__MOST_STEPS]; int count; } ft__text_steps;

/* Changes or splits one word; `first`: the text begins with it. */
typedef void ft__step_apply(const ft__text_step *s, const char *text, size_t bytes, bool first,
                            ft__words *to);
/* Changes a piece's text, which begins at `from`; `first`: no text precedes it. */
typedef void ft__step_decode(const ft__text_step *s, ft__text *text, size_t from, bool first);

/* ---- Normalizers ---- */
static void ft__step_prepend(const ft__text_step *s, const char *text, size_t bytes, bool first,
                             ft__words *to)
{
    (void)first;
    if (bytes > 0) ft__text_add_bytes(&to->text, s->text[0], strlen(s->text[0]));
    ft__add_word(to, text, bytes);
}

static void ft__step_replace(const ft__text_step *s, const char *text, size_t bytes, bool first,
                             ft__words *to)
{
    size_t from = strlen(s->text[0]), at = 0;
    (void)first;
    while (at < bytes) {
        bool found = bytes - at >= from && memcmp(text + at, s->text[0], from) == 0;
        if (found) ft__text_add_bytes(&to->text, s->text[1], strlen(s->text[1]));
        else ft__text_add_bytes(&to->text, text + at, 1);
        at += found ? from : 1;
    }
    ft__end_word(to);
}

/* White space at the begin (flag 0) and the end (flag 1). */
static void ft__step_strip(const ft__text_step *s, const char *text, size_t bytes, bool first,
                           ft__words *to)
{
    size_t at, from = bytes, end = 0;
    int taken;
    (void)first;
    for (at = 0; at < bytes; at += (size_t)taken) {
        if (ft__unicode_space(ft__utf8_read(text + at, bytes - at, &taken))) continue;
        if (from == bytes) from = at;
        end = at + (size_t)taken;
    }
    if (end == 0) from = s->flag[0] ? bytes : 0; /* nothing but white space */
    else if (!s->flag[0]) from = 0;
    if (!s->flag[1]) end = bytes;
    if (from < end) ft__add_word(to, text + from, end - from);
}

/* Adds a code point that was read; a byte that is not UTF-8 stays as it is. */
static void ft__add_code(ft__words *to, uint32_t code, const char *from, int taken)
{
    char bytes[4];
    if (code == FT__INVALID && taken == 1) ft__text_add_bytes(&to->text, from, 1);
    else ft__text_add_bytes(&to->text, bytes, (size_t)ft__utf8_write(code, bytes));
}

static void ft__add_lower(ft__words *to, uint32_t code, const char *from, int taken)
{
    if (code == 0x130) ft__text_add_bytes(&to->text, "i\xcc\x87", 3); /* i and a dot */
    else ft__add_code(to, ft__unicode_to_lower(code), from, taken);
}

static void ft__step_lowercase(const ft__text_step *s, const char *text, size_t bytes, bool first,
                               ft__words *to)
{
    int taken;
    (void)s;
    (void)first;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken);
        ft__add_lower(to, code, text, taken);
    }
    ft__end_word(to);
}

static void ft__step_strip_accents(const ft__text_step *s, const char *text, size_t bytes,
                                   bool first, ft__words *to)
{
    int taken, k;
    (void)s;
    (void)first;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken);
        k = ft__unicode_class(code);
        if (k != FT__MARK && k != FT__SPACING_MARK) ft__add_code(to, code, text, taken);
    }
    ft__end_word(to);
}

/* In the form of number[0]. */
static void ft__step_normal_form(const ft__text_step *s, const char *text, size_t bytes, bool first,
                                 ft__words *to)
{
    (void)first;
    ft__normal_form(to->codes, text, bytes, s->number[0], &to->text);
    ft__end_word(to);
}

/* Flags: drop control characters, make each ideograph a word, remove accents, lower case. */
static void ft__step_bert(const ft__text_step *s, const char *text, size_t bytes, bool first,
                          ft__words *to)
{
    int taken, i;
    (void)first;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken), letters[3] = {0, 0, 0};
        int count = 1;
        bool ideograph, space = ft__unicode_space(code);
        if (s->flag[0] && (code == 0 || code == FT__INVALID || (ft__unicode_class(code)
            == FT__CONTROL && code != '\t' && code != '\n' && code != '\r'))) continue;
        ideograph = s->flag[1] && ft__unicode_ideograph(code);
        letters[0] = s->flag[0] && space ? ' ' : code;
        if (s->flag[2]) count = ft__unicode_base(letters[0], letters);
        if (ideograph) ft__text_add_bytes(&to->text, " ", 1);
        for (i = 0; i < count; ++i) {
            if (s->flag[3]) ft__add_lower(to, letters[i], text, taken);
            else ft__add_code(to, letters[i], text, taken);
        }
        if (ideograph) ft__text_add_bytes(&to->text, " ", 1);
    }
    ft__end_word(to);
}

/* ---- Pre-tokenizers ---- */

/* Splits at white space, which is dropped, and, with `marks`, at each punctuation mark, which is a
   word. */
static void ft__split_at_spaces(const char *text, size_t bytes, bool marks, ft__words *to)
{
    size_t at, from = 0;
    int taken;
    for (at = 0; at < bytes; at += (size_t)taken) {
        uint32_t code = ft__utf8_read(text + at, bytes - at, &taken);
        bool space = ft__unicode_space(code), alone = marks && (code < 0x80
            ? code > ' ' && code < 0x7f && !(code >= '0' && code <= '9')
              && !((code | 32) >= 'a' && (code | 32) <= 'z')
            : ft__unicode_class(code) == FT__PUNCTUATION);
        if (!space && !alone) continue;
        ft__add_word(to, text + from, at - from);
        from = at + (size_t)taken;
        if (alone) ft__add_word(to, text + at, (size_t)taken);
        else if (to->count == 0) to->at_start = false;
    }
    ft__add_word(to, text + from, bytes - from);
}

static void ft__step_bert_words(const ft__text_step *s, const char *text, size_t bytes, bool first,
                                ft__words *to)
{
    (void)s;
    (void)first;
    ft__split_at_spaces(text, bytes, true, to);
}

static void ft__step_spaces(const ft__text_step *s, const char *text, size_t bytes, bool first,
                            ft__words *to)
{
    (void)s;
    (void)first;
    ft__split_at_spaces(text, bytes, false, to);
}

static void ft__split_by(const ft__split_pattern *pattern, const char *text, size_t bytes,
                         ft__words *to)
{
    size_t at, end;
    for (at = 0; at < bytes && ft__ok(to->text.context); at = end) {
        end = ft__pattern_word(pattern, text, at, bytes);
        ft__add_word(to, text + at, end - at);
    }
}

static void ft__step_split(const ft__text_step *s, const char *text, size_t bytes, bool first,
                           ft__words *to)
{
    (void)first;
    ft__split_by(s->pattern, text, bytes, to);
}

/* Flags: a space before the text, split by GPT-2's pattern. */
static void ft__step_byte_level(const ft__text_step *s, const char *text, size_t bytes, bool first,
                                ft__words *to)
{
    size_t from = to->text.count, end;
    bool spaced = s->flag[0] && bytes > 0 && text[0] != ' ';
    (void)first;
    if (spaced && s->flag[1]) { /* the word that has the space, then the others */
        ft__text_add_bytes(&to->text, " ", 1);
        ft__text_add_bytes(&to->text, text, bytes);
        if (!ft__ok(to->text.context)) return;
        end = ft__pattern_word(&ft__split_patterns[0], to->text.letters + from, 0, bytes + 1);
        to->text.count = from + end;
        ft__end_word(to);
        text += end - 1;
        bytes -= end - 1;
    } else if (spaced) ft__text_add_bytes(&to->text, " ", 1);
    if (s->flag[1]) ft__split_by(&ft__split_patterns[0], text, bytes, to);
    else ft__add_word(to, text, bytes);
}

/* Numbers are words of their own: each (flag 0), or runs of them. */
static void ft__step_digits(const ft__text_step *s, const char *text, size_t bytes, bool first,
                            ft__words *to)
{
    bool before = false; /* a number */
    int taken;
    (void)first;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken);
        bool number = ft__unicode_class(code) == FT__NUMBER;
        if (number != before || (number && s->flag[0])) ft__end_word(to);
        ft__text_add_bytes(&to->text, text, (size_t)taken);
        before = number;
    }
    ft__end_word(to);
}

/* Spaces become text[0], one stands before the text as number[0] says, and with flag 0 words begin
   with them. */
static void ft__step_metaspace(const ft__text_step *s, const char *text, size_t bytes, bool first,
                               ft__words *to)
{
    const char *mark = s->text[0];
    size_t length = strlen(mark), at;
    bool marked = bytes > 0 && (text[0] == ' '
                                || (bytes >= length && memcmp(text, mark, length) == 0));
    if (bytes > 0 && !marked && (s->number[0] == FT__PREPEND_ALWAYS
                                 || (s->number[0] == FT__PREPEND_FIRST && first)))
        ft__text_add_bytes(&to->text, mark, length);
    for (at = 0; at < bytes;) {
        bool space = text[at] == ' ';
        bool is = space || (bytes - at >= length && memcmp(text + at, mark, length) == 0);
        if (is && s->flag[0]) ft__end_word(to);
        ft__text_add_bytes(&to->text, is ? mark : text + at, is ? length : 1);
        at += is && !space ? length : 1;
    }
    ft__end_word(to);
}

/* ---- Decoders ---- */

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

/* A piece with a character that stands for no byte is left as it is. */
static void ft__decode_byte_level(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    size_t at, to = from;
    int taken;
    (void)s;
    (void)first;
    for (at = from; at < text->count; at += (size_t)taken)
        if (ft__letter_byte(ft__utf8_read(text->letters + at, text->count - at, &taken)) < 0)
            return;
    for (at = from; at < text->count; at += (size_t)taken)
        text->letters[to++] = (char)ft__letter_byte(ft__utf8_read(text->letters + at,
                                                                  text->count - at, &taken));
    text->count = to;
}

/* <0x0A> becomes the byte. */
static void ft__decode_fallback(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    const char *p = text->letters + from;
    int number = 0, i;
    (void)s;
    (void)first;
    if (text->count - from != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return;
    for (i = 3; i < 5; ++i) {
        int digit = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : p[i] >= 'A' && p[i] <= 'F'
            ? p[i] - 'A' + 10 : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10 : -1;
        if (digit < 0) return;
        number = 16 * number + digit;
    }
    text->letters[from] = (char)number;
    text->count = from + 1;
}

/* Replaces `cut` bytes at `at`. */
static void ft__splice(ft__text *text, size_t at, size_t cut, const char *with)
{
    size_t bytes = strlen(with), tail = text->count - at - cut;
    if (bytes > cut) ft__text_add_bytes(text, with, bytes - cut); /* makes room */
    else text->count -= cut - bytes;
    if (!ft__ok(text->context)) return;
    memmove(text->letters + at + bytes, text->letters + at + cut, tail);
    memcpy(text->letters + at, with, bytes);
}

static void ft__replace_all(ft__text *text, size_t from, const char *what, const char *with)
{
    size_t bytes = strlen(what), at = from;
    while (bytes > 0 && ft__ok(text->context) && text->count - from >= bytes
           && at <= text->count - bytes) {
        bool found = memcmp(text->letters + at, what, bytes) == 0;
        if (found) ft__splice(text, at, bytes, with);
        at += found ? strlen(with) : 1;
    }
}

static void ft__decode_replace(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    (void)first;
    ft__replace_all(text, from, s->text[0], s->text[1]);
}

/* Those of the first piece are dropped, unless nothing was put before texts. */
static void ft__decode_metaspace(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    ft__replace_all(text, from, s->text[0], first && s->number[0] != FT__PREPEND_NEVER ? "" : " ");
}

/* Up to number[0] times text[0] at the begin, number[1] at the end; flag 0: of the whole text. */
static void ft__decode_strip(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    size_t bytes = strlen(s->text[0]);
    int i;
    if (s->flag[0] && !first) return;
    for (i = 0; i < s->number[0] && text->count - from >= bytes
         && memcmp(text->letters + from, s->text[0], bytes) == 0; ++i)
        ft__splice(text, from, bytes, "");
    for (i = 0; i < s->number[1] && text->count - from >= bytes
         && memcmp(text->letters + text->count - bytes, s->text[0], bytes) == 0; ++i)
        text->count -= bytes;
}

/* A space, unless text[0] says that the piece continues a word; flag 0: not before punctuation. */
static void ft__decode_wordpiece(const ft__text_step *s, ft__text *text, size_t from, bool first)
{
    static const char *const tidy[][2] = {
        {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    size_t prefix = strlen(s->text[0]), i;
    if (!first && prefix && text->count - from >= prefix
        && memcmp(text->letters + from, s->text[0], prefix) == 0)
        ft__splice(text, from, prefix, "");
    else if (!first) ft__splice(text, from, 0, " ");
    for (i = 0; s->flag[0] && i < sizeof tidy / sizeof tidy[0]; ++i)
        ft__replace_all(text, from, tidy[i][0], tidy[i][1]);
}

/* ---- The table ---- */
typedef struct ft__step_kind {
    char stage;             /* 'n' normalizer, 'p' pre-tokenizer, 'd' decoder */
    const char *type;       /* in tokenizer.json */
    ft__step_apply *apply;
    ft__step_decode *decode;
    const char *texts[2];   /* members that are texts ... */
    const char *flags[4];   /* ... and flags; ... */
    int defaults;           /* ... the bits of those that are true if absent */
    const char *others;     /* members that are read otherwise, or change neither ids nor text */
} ft__step_kind;

static const ft__step_kind ft__step_kinds[] = {
    {'n', "Prepend", ft__step_prepend, NULL, {"prepend", NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "Replace", ft__step_replace, NULL, {"pattern", "content"}, {NULL, NULL, NULL, NULL}, 0,
     ""},
    {'n', "Strip", ft__step_strip, NULL, {NULL, NULL}, {"strip_left", "strip_right", NULL, NULL}, 3,
     ""},
    {'n', "Lowercase", ft__step_lowercase, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "StripAccents", ft__step_strip_accents, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0,
     ""},
    {'n', "NFD", ft__step_normal_form, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "NFC", ft__step_normal_form, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "NFKD", ft__step_normal_form, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "NFKC", ft__step_normal_form, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'n', "BertNormalizer", ft__step_bert, NULL, {NULL, NULL},
     {"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}, 11, ""},
    {'p', "BertPreTokenizer", ft__step_bert_words, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0,
     ""},
    {'p', "WhitespaceSplit", ft__step_spaces, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'p', "Split", ft__step_split, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0,
     "pattern,behavior,invert"},
    {'p', "ByteLevel", ft__step_byte_level, NULL, {NULL, NULL},
     {"add_prefix_space", "use_regex", NULL, NULL}, 3, "trim_offsets"},
    {'p', "Digits", ft__step_digits, NULL, {NULL, NULL}, {"individual_digits", NULL, NULL, NULL}, 0,
     ""},
    {'p', "Metaspace", ft__step_metaspace, NULL, {"replacement", NULL}, {"split", NULL, NULL, NULL},
     1, "prepend_scheme,add_prefix_space,str_rep"},
    {'d', "ByteLevel", NULL, ft__decode_byte_level, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0,
     "add_prefix_space,trim_offsets,use_regex"},
    {'d', "Metaspace", NULL, ft__decode_metaspace, {"replacement", NULL},
     {"split", NULL, NULL, NULL}, 1, "prepend_scheme,add_prefix_space,str_rep"},
    {'d', "ByteFallback", NULL, ft__decode_fallback, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'d', "Fuse", NULL, NULL, {NULL, NULL}, {NULL, NULL, NULL, NULL}, 0, ""},
    {'d', "Strip", NULL, ft__decode_strip, {"content", NULL}, {NULL, NULL, NULL, NULL}, 0,
     "start,stop"},
    {'d', "Replace", NULL, ft__decode_replace, {"pattern", "content"}, {NULL, NULL, NULL, NULL}, 0,
     ""},
    {'d', "WordPiece", NULL, ft__decode_wordpiece, {"prefix", NULL}, {"cleanup", NULL, NULL, NULL},
     1, ""}};

/* ---- Reading steps ---- */
typedef struct ft__step_reader {
    ft__context *context;
    const ft__json *json;
    const char *path;       /* of the file, for errors */
    char stage;
    ft__text_steps *to;
} ft__step_reader;

static const char *ft__stage_name(char stage)
{
    return stage == 'n' ? "normalizer" : stage == 'p' ? "pre_tokenizer" : "decoder";
}

/* A member that is true or false, or else `otherwise`. */
static bool ft__json_says(const ft__json *json, int object, const char *key, bool otherwise)
{
    int value = ft__json_member(json, object, key);
    if (ft__json_at(json, value, 't')) return true;
    return ft__json_at(json, value, 'f') ? false : otherwise;
}

/* A text of a step: a member, or {"String": text}. */
static void ft__step_text(ft__step_reader *r, ft__text_step *s, int object, int which)
{
    const char *key = s->kind->texts[which];
    int member = ft__json_member(r->json, object, key);
    int inner = ft__json_member(r->json, member, "String");
    const char *text = ft__json_string(r->json, inner >= 0 ? inner : member);
    if (text && strlen(text) < FT__STEP_TEXT && (*text || which == 1 || s->kind->stage == 'd'))
        snprintf(s->text[which], FT__STEP_TEXT, "%s", text);
    else if (member >= 0 || strcmp(key, "replacement") != 0) {
        text = ft__json_string(r->json, ft__json_member(r->json, member, "Regex"));
        ft__fail(r->context, FT_UNSUPPORTED, "%s: the %s %s: \"%s\" must be a text of 1 to %d bytes"
                 "%s%s", r->path, ft__stage_name(r->stage), s->kind->type, key, FT__STEP_TEXT - 1,
                 text ? ", not the regular expression " : "", text ? text : "");
    } else snprintf(s->text[which], FT__STEP_TEXT, "\xe2\x96\x81"); /* Metaspace's usual mark */
}

/* The pattern of a Split, and that its matches are the words. */
static void ft__step_pattern(ft__step_reader *r, ft__text_step *s, int object)
{
    int pattern = ft__json_member(r->json, object, "pattern"), i;
    const char *regex = ft__json_string(r->json, ft__json_member(r->json, pattern, "Regex"));
    const char *string = ft__json_string(r->json, ft__json_member(r->json, pattern, "String"));
    const char *behavior = ft__json_string(r->json, ft__json_member(r->json, object, "behavior"));
    bool invert = ft__json_says(r->json, object, "invert", false);
    for (i = 0; regex && i < FT__SPLIT_PATTERNS; ++i)
        if (strcmp(regex, ft__split_patterns[i].text) == 0) s->pattern = &ft__split_patterns[i];
    if (!s->pattern)
        ft__fail(r->context, FT_UNSUPPORTED, "%s: the pre_tokenizer Split has the pattern %s, which"
                 " is not one of GPT-2's, Llama 3's and Qwen's", r->path,
                 regex ? regex : string ? string : "(none)");
    else if (!behavior || strcmp(behavior, invert ? "Removed" : "Isolated") != 0)
        ft__fail(r->context, FT_UNSUPPORTED, "%s: the pre_tokenizer Split has the behavior %s%s;"
                 " expected Isolated, or Removed with invert", r->path,
                 behavior ? behavior : "(none)", invert ? " with invert" : "");
}

/* What a type has beside texts and flags. */
static void ft__step_rest(ft__step_reader *r, ft__text_step *s, int object)
{
    const char *scheme = ft__json_string(r->json,
                                         ft__json_member(r->json, object, "prepend_scheme"));
    int64_t start = 0, stop = 0;
    int i;
    if (s->kind->apply == ft__step_normal_form)
        s->number[0] = (strchr(s->kind->type, 'C') ? FT__NFC : FT__NFD)
            | (strchr(s->kind->type, 'K') ? FT__NFKD : FT__NFD);
    if (s->kind->apply == ft__step_split) ft__step_pattern(r, s, object);
    if (s->kind->apply == ft__step_bert)
        s->flag[2] = ft__json_says(r->json, object, "strip_accents", s->flag[3]);
    if (!strcmp(s->kind->type, "Metaspace")) {
        s->number[0] = !scheme || !strcmp(scheme, "always") ? FT__PREPEND_ALWAYS
            : !strcmp(scheme, "first") ? FT__PREPEND_FIRST : FT__PREPEND_NEVER;
        if (!ft__json_says(r->json, object, "add_prefix_space", true))
            s->number[0] = FT__PREPEND_NEVER;
        if (scheme && s->number[0] == FT__PREPEND_NEVER && strcmp(scheme, "never") != 0)
            ft__fail(r->context, FT_UNSUPPORTED, "%s: the %s Metaspace has the prepend_scheme %s;"
                     " expected always, first, or never", r->path, ft__stage_name(r->stage),
                     scheme);
    }
    if (s->kind->decode == ft__decode_strip) {
        ft__json_int(r->json, ft__json_member(r->json, object, "start"), &start);
        ft__json_int(r->json, ft__json_member(r->json, object, "stop"), &stop);
        s->number[0] = start > 0 && start < 1024 ? (int)start : 0;
        s->number[1] = stop > 0 && stop < 1024 ? (int)stop : 0;
        for (i = 0; i < r->to->count; ++i) /* after Fuse all is one piece */
            if (!r->to->list[i].kind->decode) s->flag[0] = true;
        if (s->flag[0] && s->number[1] > 0)
            ft__fail(r->context, FT_UNSUPPORTED, "%s: the decoder Strip after Fuse has \"stop\": %d"
                     "; only 0 is supported", r->path, s->number[1]);
    }
}

/* Every member of a step must be known. */
static void ft__step_members(ft__step_reader *r, const ft__step_kind *kind, int object)
{
    int i, k;
    for (i = object + 1; i < r->json->values[object].next; i = r->json->values[i].next) {
        const char *key = r->json->values[i].key;
        bool known = !strcmp(key, "type") || ft__glob(kind->others, key);
        for (k = 0; k < 4; ++k)
            known = known || (kind->flags[k] && !strcmp(kind->flags[k], key))
                || (k < 2 && kind->texts[k] && !strcmp(kind->texts[k], key));
        if (!known) ft__fail(r->context, FT_UNSUPPORTED, "%s: the %s %s: \"%s\" is not supported",
                             r->path, ft__stage_name(r->stage), kind->type, key);
    }
}

/* Reads one step, which has a type, or those of a Sequence. */
static void ft__read_steps(ft__step_reader *r, int object)
{
    const char *type = ft__json_string(r->json, ft__json_member(r->json, object, "type"));
    int list = ft__json_member(r->json, object, r->stage == 'n' ? "normalizers"
                               : r->stage == 'p' ? "pretokenizers" : "decoders"), i;
    const int kinds = (int)(sizeof ft__step_kinds / sizeof ft__step_kinds[0]);
    ft__text_step *s;
    if (object < 0 || ft__json_at(r->json, object, '0') || !ft__ok(r->context)) return;
    if (type && !strcmp(type, "Sequence")) {
        for (i = list + 1; list >= 0 && i < r->json->values[list].next;
             i = r->json->values[i].next) ft__read_steps(r, i);
        return;
    }
    for (i = 0; type && i < kinds; ++i)
        if (ft__step_kinds[i].stage == r->stage && !strcmp(ft__step_kinds[i].type, type)) break;
    if (!type || i == kinds || r->to->count == FT__MOST_STEPS) {
        ft__fail(r->context, FT_UNSUPPORTED, "%s: the %s %s is not supported", r->path,
                 ft__stage_name(r->stage), !type ? "without a type" : i == kinds ? type
                                                       : "of more than 12 steps");
        return;
    }
    s = &r->to->list[r->to->count];
    memset(s, 0, sizeof *s);
    s->kind = &ft__step_kinds[i];
    ft__step_members(r, s->kind, object);
    for (i = 0; i < 4; ++i) {
        if (i < 2 && s->kind->texts[i]) ft__step_text(r, s, object, i);
        if (s->kind->flags[i])
            s->flag[i] = ft__json_says(r->json, object, s->kind->flags[i],
                                       (s->kind->defaults >> i & 1) != 0);
    }
    ft__step_rest(r, s, object);
    r->to->count += 1;
}

/* ---- Using steps ---- */

/* Runs normalizers or pre-tokenizers on a text: the steps go from one list of words to the
   other and back. Returns the one that holds the result. */
static ft__words *ft__run_steps(const ft__text_steps *steps, const char *text, size_t bytes,
                                bool first, ft__words lists[2])
{
    ft__words *from = &lists[0], *to = &lists[1], *swap;
    size_t w, count;
    int i;
    ft__clear_words(to);
    to->at_start = first;
    if (steps->count == 0) ft__add_word(to, text, bytes);
    for (i = 0; i < steps->count && ft__ok(to->text.context); ++i) {
        const ft__text_step *s = &steps->list[i];
        if (i == 0) {
            s->kind->apply(s, text, bytes, first, to);
            continue;
        }
        swap = from;
        from = to;
        to = swap;
        ft__clear_words(to);
        to->at_start = from->at_start;
        for (w = 0; w < from->count && ft__ok(to->text.context); ++w) {
            const char *word = ft__word_of(from, w, &count);
            s->kind->apply(s, word, count, w == 0 && from->at_start, to);
        }
    }
    return to;
}

/* Changes the piece's text, which begins at `from`, as the decoders say. Without any, pieces are
   words. */
static void ft__decode_steps(const ft__text_steps *steps, ft__text *text, size_t from, bool first)
{
    int i;
    if (steps->count == 0 && !first) ft__splice(text, from, 0, " ");
    for (i = 0; i < steps->count && ft__ok(text->context); ++i)
        if (steps->list[i].kind->decode)
            steps->list[i].kind->decode(&steps->list[i], text, from, first);
    if (text->letters) text->letters[text->count] = 0;
}
