#pragma once

/* =============================================================================================
   [SECTION] platform/utf8: UTF-8
   Reading it, and names that came from a file or folder: they may be no UTF-8, and may hold what a
   terminal obeys.
   ============================================================================================= */
enum { FT__INVALID = 0xfffd }; /* stands for a byte that is not UTF-8 */

/* The code point at text[0..bytes), bytes > 0, and how many bytes it takes; a byte that is not part
   of valid UTF-8 (overlong forms and surrogates are not) is FT__INVALID and takes one. */
static uint32_t ft__utf8_read(const char *text, size_t bytes, int *taken)
{
    const unsigned char *at = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int count = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3
        : at[0] < 0xf5 ? 4 : 0, i;
    uint32_t code = count == 1 ? at[0] : at[0] & (0x7fu >> count);
    *taken = 1;
    if (count == 0 || (size_t)count > bytes) return FT__INVALID;
    for (i = 1; i < count; ++i) {
        if ((at[i] & 0xc0) != 0x80) return FT__INVALID;
        code = code << 6 | (at[i] & 0x3fu);
    }
    if (code < least[count] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return FT__INVALID;
    *taken = count;
    return code;
}

static bool ft__utf8_valid(const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken)
        if (ft__utf8_read(text, bytes, &taken) == FT__INVALID && taken == 1) return false;
    return true;
}

/* Whether a code point does something other than stand on its line: controls but the tab, ends of
   lines, and marks that turn the direction of what follows. */
static bool ft__is_control(uint32_t code)
{
    return (code < 0x20 && code != '\t') || (code >= 0x7f && code < 0xa0) || code == 0x200e
           || code == 0x200f || (code >= 0x2028 && code <= 0x202e)
           || (code >= 0x2066 && code <= 0x2069);
}

/* Copies a text to memory of `room` bytes, as UTF-8: a byte that is none becomes \xE9, as Python
   writes it. With `line`, so that it can stand on a line of a log or terminal too: controls become
   \x1B or \u202E. What does not fit is left out. Returns the bytes, without the 0 at the end. */
static size_t ft__clean_text(const char *text, bool line, char *to, size_t room)
{
    size_t bytes = strlen(text), count = 0;
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken);
        bool invalid = code == FT__INVALID && taken == 1;
        const char *from = text;
        char escaped[12];
        int more = taken;
        if (invalid) code = (unsigned char)*text;
        if (invalid || (line && ft__is_control(code))) {
            more = snprintf(escaped, sizeof escaped, code < 0x100 ? "\\x%02X" : "\\u%04X",
                            (unsigned)code);
            from = escaped;
        }
        if (count + (size_t)more + 1 > room) break;
        memcpy(to + count, from, (size_t)more);
        count += (size_t)more;
    }
    to[count] = 0;
    return count;
}
