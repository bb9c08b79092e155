#pragma once
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/strings.h"

/* =============================================================================================
   [SECTION] basics/json: JSON
   A text is parsed into an array of values in the order of the text; a value holds the number of
   its members and the index of the value after it. No recursion: a hostile file cannot exhaust the
   stack. Numbers are read and written here, not by libc, whose decimal point depends on the locale.
   ============================================================================================= */
enum { FT__JSON_DEPTH = 64 };

typedef struct ft__json_value {
    char kind;          /* 'o' object, 'a' array, 's' string, 'n' number, 't', 'f', '0' null */
    bool integer;       /* a number without fraction and exponent */
    int next;           /* index of the value after this one and its contents */
    const char *key;    /* inside an object */
    const char *digits; /* of a number: its place in the text that was read */
    union {
        int count;          /* of members or elements */
        const char *text;   /* of a string */
        double number;      /* of a number, ... */
        int64_t whole;      /* ... of an integer */
    } is;
} ft__json_value;

typedef struct ft__json { ft__json_value *values; int count, capacity; char *letters; } ft__json;

typedef struct ft__json_reader {
    ft__context *context;
    ft__json *json;
    const char *at, *end;
    char *to;           /* where the next decoded string goes */
} ft__json_reader;

static void ft__json_space(ft__json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at += 1;
}

static bool ft__json_hex(ft__json_reader *r, uint32_t *code)
{
    int i;
    *code = 0;
    if (r->end - r->at < 4) return false;
    for (i = 0; i < 4; ++i) {
        char l = *r->at++;
        uint32_t digit = l >= '0' && l <= '9' ? (uint32_t)(l - '0')
            : l >= 'a' && l <= 'f' ? (uint32_t)(l - 'a' + 10)
            : l >= 'A' && l <= 'F' ? (uint32_t)(l - 'A' + 10) : 16;
        if (digit > 15) return false;
        *code = *code * 16 + digit;
    }
    return true;
}

static void ft__json_utf8(ft__json_reader *r, uint32_t code)
{
    if (code < 0x80) *r->to++ = (char)code;
    else if (code < 0x800) {
        *r->to++ = (char)(0xc0 | code >> 6);
        *r->to++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *r->to++ = (char)(0xe0 | code >> 12);
        *r->to++ = (char)(0x80 | (code >> 6 & 63));
        *r->to++ = (char)(0x80 | (code & 63));
    } else {
        *r->to++ = (char)(0xf0 | code >> 18);
        *r->to++ = (char)(0x80 | (code >> 12 & 63));
        *r->to++ = (char)(0x80 | (code >> 6 & 63));
        *r->to++ = (char)(0x80 | (code & 63));
    }
}

/* Decodes what follows a backslash. A decoded string is never longer than the encoded one. */
static bool ft__json_escape(ft__json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    const char *found;
    char l;
    if (r->at >= r->end) return false;
    l = *r->at++;
    if (l != 'u') {
        found = l ? strchr(from, l) : NULL;
        if (found) *r->to++ = to[found - from];
        return found != NULL;
    }
    if (!ft__json_hex(r, &code)) return false;
    if (code >= 0xd800 && code < 0xdc00) { /* the first half of a pair */
        if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u') return false;
        r->at += 2;
        if (!ft__json_hex(r, &low) || low < 0xdc00 || low > 0xdfff) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) return false;
    if (code == 0) return false; /* would end the string early */
    ft__json_utf8(r, code);
    return true;
}

static const char *ft__json_read_string(ft__json_reader *r)
{
    const char *start = r->to;
    r->at += 1; /* the quote */
    while (r->at < r->end && *r->at != '"') {
        if ((unsigned char)*r->at < 0x20) return NULL;
        if (*r->at != '\\') *r->to++ = *r->at++;
        else {
            r->at += 1;
            if (!ft__json_escape(r)) return NULL;
        }
    }
    if (r->at >= r->end) return NULL;
    r->at += 1;
    *r->to++ = 0;
    return start;
}

static double ft__power_of_ten(int exponent)
{
    double power = 1, base = 10;
    int n = exponent < 0 ? -exponent : exponent;
    for (; n; n >>= 1, base *= base)
        if (n & 1) power *= base;
    return power;
}

/* Reads the digits as an integer and scales by one exact power of ten: correct to the last bit of a
   float32, the only type that is read back. */
static bool ft__json_read_number(ft__json_reader *r, ft__json_value *v)
{
    bool negative = false, overflow = false;
    double mantissa = 0, number;
    int64_t whole = 0;
    int exponent = 0, digits = 0, written = 0;
    v->kind = 'n';
    v->digits = r->at;
    v->integer = true;
    if (*r->at == '-') negative = (r->at += 1, true);
    for (; r->at < r->end && ((*r->at >= '0' && *r->at <= '9') || (*r->at == '.' && v->integer));
         ++r->at) {
        if (*r->at == '.') {
            v->integer = false;
            continue;
        }
        if (digits < 17) mantissa = mantissa * 10 + (*r->at - '0');
        else exponent += 1;
        if (!v->integer) exponent -= 1;
        if (mantissa > 0) digits += 1;
        if (whole > (INT64_MAX - 9) / 10) overflow = true;
        else whole = whole * 10 + (*r->at - '0');
        written += 1;
    }
    if (written == 0) return false;
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        int sign = 1, power = 0;
        r->at += 1;
        if (r->at < r->end && (*r->at == '-' || *r->at == '+')) sign = *r->at++ == '-' ? -1 : 1;
        if (r->at >= r->end || *r->at < '0' || *r->at > '9') return false;
        for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; ++r->at)
            if (power < 1000) power = power * 10 + (*r->at - '0');
        exponent += sign * power;
        v->integer = false;
    }
    if (exponent > 320) exponent = 320;
    if (exponent < -320) mantissa = exponent < -350 ? 0 : mantissa;
    number = exponent < 0 ? mantissa / ft__power_of_ten(exponent)
                          : mantissa * ft__power_of_ten(exponent);
    if (overflow || (negative && whole == 0)) v->integer = false; /* -0 is a float too */
    if (v->integer) v->is.whole = negative ? -whole : whole;
    else v->is.number = negative ? -number : number;
    return true;
}

/* Whether a text is one finite number, and which; a plus sign and spaces around it may be there. */
static bool ft__read_number_text(const char *text, double *number)
{
    ft__json_value v;
    ft__json_reader r;
    memset(&v, 0, sizeof v);
    memset(&r, 0, sizeof r);
    while (*text == ' ') ++text;
    if (*text == '+' && text[1] != '-') ++text;
    r.at = text;
    r.end = text + strlen(text);
    while (r.end > r.at && r.end[-1] == ' ') --r.end;
    if (r.at == r.end || !ft__json_read_number(&r, &v) || r.at != r.end) return false;
    *number = v.integer ? (double)v.is.whole : v.is.number;
    return *number >= -(double)FLT_MAX && *number <= (double)FLT_MAX;
}

/* The most values that a text may hold: one after each comma and each opening bracket. They may
   take twice the bytes of the text plus a usual amount; if they would take more, returns 0, and
   *fault is the place. */
static int ft__json_most(const char *text, size_t count, size_t *fault)
{
    size_t most = ((size_t)16 << 20) / sizeof(ft__json_value), values = 1, i;
    bool inside = false; /* a string */
    most += count / sizeof(ft__json_value) * 2;
    if (most > INT_MAX) most = INT_MAX;
    for (i = 0; i < count; ++i) {
        if (inside && text[i] == '\\') i += 1;
        else if (text[i] == '"') inside = !inside;
        else if (!inside && (text[i] == ',' || text[i] == '{' || text[i] == '[')) values += 1;
        if (values <= most) continue;
        *fault = i;
        return 0;
    }
    return (int)values;
}

static ft__json_value *ft__json_add(ft__json_reader *r)
{
    ft__json *j = r->json;
    return j->count < j->capacity ? &j->values[j->count++] : NULL;
}

static bool ft__json_word(ft__json_reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return false;
    r->at += length;
    return true;
}

/* Reads a value; of an object or array only the bracket. */
static bool ft__json_scalar(ft__json_reader *r, ft__json_value *v)
{
    char l = *r->at;
    v->kind = l == '{' ? 'o' : l == '[' ? 'a' : l == '"' ? 's' : l == 'n' ? '0' : l;
    if (l == '{' || l == '[') return r->at += 1, true;
    if (l == '"') return (v->is.text = ft__json_read_string(r)) != NULL;
    if (l == 't') return ft__json_word(r, "true");
    if (l == 'f') return ft__json_word(r, "false");
    if (l == 'n') return ft__json_word(r, "null");
    return ft__json_read_number(r, v);
}

/* Reads one member or element of the open value `inside` (-1: the root). Returns its index, or -1
   on a fault. */
static int ft__json_read_one(ft__json_reader *r, int inside)
{
    const char *key = NULL;
    ft__json_value *v;
    int index;
    if (inside >= 0 && r->json->values[inside].kind == 'o') {
        if (r->at >= r->end || *r->at != '"' || !(key = ft__json_read_string(r))) return -1;
        ft__json_space(r);
        if (r->at >= r->end || *r->at++ != ':') return -1;
        ft__json_space(r);
    }
    if (r->at >= r->end || !(v = ft__json_add(r))) return -1;
    index = r->json->count - 1;
    v->key = key;
    v->next = index + 1;
    if (!ft__json_scalar(r, v)) return -1;
    if (inside >= 0) r->json->values[inside].is.count += 1;
    return index;
}

/* Reads the whole text; on a fault r->at points to it. */
static bool ft__json_read_all(ft__json_reader *r)
{
    int open[FT__JSON_DEPTH], depth = 0;
    bool first = true; /* nothing was read yet in the innermost open value */
    for (;;) {
        ft__json_value *top = depth ? &r->json->values[open[depth - 1]] : NULL;
        int index;
        ft__json_space(r);
        if (top && r->at < r->end && *r->at == (top->kind == 'o' ? '}' : ']')
            && (first || top->is.count > 0)) {
            top->next = r->json->count;
            r->at += 1;
            depth -= 1;
            first = false;
        } else {
            if (top && !first) {
                if (r->at >= r->end || *r->at++ != ',') return false;
                ft__json_space(r);
            }
            index = ft__json_read_one(r, depth ? open[depth - 1] : -1);
            if (index < 0) return false;
            first = r->json->values[index].kind == 'o' || r->json->values[index].kind == 'a';
            if (first && depth == FT__JSON_DEPTH) return false;
            if (first) open[depth++] = index;
        }
        if (depth == 0) {
            ft__json_space(r);
            return r->at == r->end;
        }
    }
}

static void ft__json_free(ft__context *c, ft__json *json)
{
    if (!json) return;
    ft__release(c, json->letters);
    ft__release(c, json->values);
    ft__release(c, json);
}

/* NULL if the text is not JSON or has more values than its size allows (no error is set, `*fault`
   is the offset), or if memory runs out. */
static ft__json *ft__json_parse_at(ft__context *c, const char *text, size_t count, size_t *fault)
{
    ft__json_reader r;
    ft__json *json = (ft__json *)ft__allocate(c, 1, sizeof *json);
    memset(&r, 0, sizeof r);
    *fault = 0;
    if (!json) return NULL;
    json->capacity = ft__json_most(text, count, fault);
    if (json->capacity)
        json->values = (ft__json_value *)ft__allocate(c, (size_t)json->capacity,
                                                      sizeof *json->values);
    /* Decoding drops each string's quotes, so the strings and their final 0s need no more bytes. */
    if (json->values) json->letters = (char *)ft__allocate(c, count + 1, 1);
    r.context = c;
    r.json = json;
    r.at = text;
    r.end = text + count;
    r.to = json->letters;
    if (json->letters && ft__json_read_all(&r)) return json;
    if (json->capacity) *fault = (size_t)(r.at - text);
    ft__json_free(c, json);
    return NULL;
}

static ft__json *ft__json_parse(ft__context *c, const char *text, size_t count)
{
    size_t fault;
    return ft__json_parse_at(c, text, count, &fault);
}

/* ---- Access; the value -1 means "not found" and is accepted everywhere ---- */

static const ft__json_value *ft__json_at(const ft__json *j, int value, char kind)
{
    return value >= 0 && value < j->count && j->values[value].kind == kind ? &j->values[value]
                                                                           : NULL;
}

static int ft__json_count(const ft__json *j, int value)
{
    const ft__json_value *v = value >= 0 && value < j->count ? &j->values[value] : NULL;
    return v && (v->kind == 'o' || v->kind == 'a') ? v->is.count : 0;
}

static int ft__json_member(const ft__json *j, int object, const char *key)
{
    const ft__json_value *o = ft__json_at(j, object, 'o');
    int i;
    for (i = object + 1; o && i < o->next; i = j->values[i].next)
        if (strcmp(j->values[i].key, key) == 0) return i;
    return -1;
}

static int ft__json_element(const ft__json *j, int array, int index)
{
    const ft__json_value *a = ft__json_at(j, array, 'a');
    int i;
    for (i = array + 1; a && i < a->next; i = j->values[i].next)
        if (index-- == 0) return i;
    return -1;
}

static const char *ft__json_string(const ft__json *j, int value)
{
    const ft__json_value *s = ft__json_at(j, value, 's');
    return s ? s->is.text : NULL;
}

static bool ft__json_double(const ft__json *j, int value, double *to)
{
    const ft__json_value *n = ft__json_at(j, value, 'n');
    if (n) *to = n->integer ? (double)n->is.whole : n->is.number;
    return n != NULL;
}

static bool ft__json_int(const ft__json *j, int value, int64_t *to)
{
    const ft__json_value *n = ft__json_at(j, value, 'n');
    if (!n || !n->integer) return false;
    *to = n->is.whole;
    return true;
}

static bool ft__json_true(const ft__json *j, int value)
{
    return ft__json_at(j, value, 't') != NULL;
}

/* ---- Writing ---- */

/* A byte that is not UTF-8 becomes \xE9, for JSON is UTF-8. */
static void ft__json_add_text(ft__text *to, const char *text)
{
    size_t bytes = strlen(text);
    int taken;
    ft__text_add_bytes(to, "\"", 1);
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        bool invalid = ft__utf8_read(text, bytes, &taken) == FT__INVALID && taken == 1;
        if (*text == '"' || *text == '\\') ft__text_add(to, "\\%c", *text);
        else if (invalid) ft__text_add(to, "\\\\x%02X", (unsigned)(unsigned char)*text);
        else if ((unsigned char)*text < 0x20) ft__text_add(to, "\\u%04x", (unsigned)*text);
        else ft__text_add_bytes(to, text, (size_t)taken);
    }
    ft__text_add_bytes(to, "\"", 1);
}

/* The members of an object of texts: `count` keys, each followed by its text. */
static void ft__json_add_pairs(ft__text *to, const char *const *pairs, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        if (i) ft__text_add(to, ",");
        ft__json_add_text(to, pairs[2 * i]);
        ft__text_add(to, ":");
        ft__json_add_text(to, pairs[2 * i + 1]);
    }
}

/* Nine digits distinguish every float32; a value that is not finite is written as null. */
static void ft__json_add_float(ft__text *to, float value)
{
    char digits[32], *point;
    if (!(value - value == 0)) {
        ft__text_add(to, "null");
        return;
    }
    snprintf(digits, sizeof digits, "%.9g", (double)value);
    point = digits + strspn(digits, "+-0123456789");
    if (*point && *point != 'e') { /* in some locales another character, maybe of several bytes */
        *point = '.';
        memmove(point + 1, point + 1 + strcspn(point + 1, "0123456789"),
                strlen(point + 1 + strcspn(point + 1, "0123456789")) + 1);
    }
    ft__text_add(to, "%s", digits);
}

/* A further member of an object: a list of whole numbers. */
static FT__UNUSED void ft__json_add_ints(ft__text *to, const char *key, const int *numbers,
                                         int count)
{
    int i;
    ft__text_add(to, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) ft__text_add(to, "%s%d", i ? "," : "", numbers[i]);
    ft__text_add(to, "]");
}

/* A value as it was read, without white space. Nesting is at most FT__JSON_DEPTH deep. */
static void ft__json_add_value(ft__text *to, const ft__json *j, int value)
{
    const ft__json_value *v = &j->values[value];
    size_t digits;
    int i;
    if (v->kind == 's') ft__json_add_text(to, v->is.text);
    else if (v->kind == 'n') {
        digits = strspn(v->digits, "+-.0123456789eE");
        ft__text_add_bytes(to, v->digits, digits);
    } else if (v->kind != 'o' && v->kind != 'a')
        ft__text_add(to, "%s", v->kind == 't' ? "true" : v->kind == 'f' ? "false" : "null");
    else {
        ft__text_add(to, v->kind == 'o' ? "{" : "[");
        for (i = value + 1; i < v->next; i = j->values[i].next) {
            if (i > value + 1) ft__text_add(to, ",");
            if (v->kind == 'o') {
                ft__json_add_text(to, j->values[i].key);
                ft__text_add(to, ":");
            }
            ft__json_add_value(to, j, i);
        }
        ft__text_add(to, v->kind == 'o' ? "}" : "]");
    }
}
