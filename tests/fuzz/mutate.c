/* mutate.c - changes inputs at random: bits, bytes, stretches, and in texts (JSON, tables) whole
   numbers and words, so that sizes take values at their limits and edges lead elsewhere. */
#include "targets.h"
#include <stdio.h>
#include <string.h>

static uint64_t next(uint64_t *random) /* xorshift64*, Vigna 2016 */
{
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    return *random * 2685821657736338717u;
}

static size_t below(uint64_t *random, size_t count) { return (size_t)(next(random) % count); }

/* Puts `count` bytes where `length` were. */
static size_t put(uint8_t *data, size_t size, size_t most, size_t at, size_t length,
                  const void *bytes, size_t count)
{
    if (at + length > size || size - length + count > most) return size;
    memmove(data + at + count, data + at + length, size - at - length);
    memcpy(data + at, bytes, count);
    return size - length + count;
}

static int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static int is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

/* Finds a number (or a word) at or after a random place: its first byte, and *length; else 0. */
static size_t find(const uint8_t *data, size_t size, uint64_t *random, int number, size_t *length)
{
    size_t at = below(random, size), end, tried;
    for (tried = 0; tried < size; ++tried, at = (at + 1) % size) {
        if (!(number ? is_digit(data[at]) : is_letter(data[at]))) continue;
        while (at > 0 && (number ? is_digit(data[at - 1]) : is_letter(data[at - 1]))) --at;
        for (end = at; end < size && (number ? is_digit(data[end]) : is_letter(data[end]));) ++end;
        *length = end - at;
        return at;
    }
    *length = 0;
    return 0;
}

static size_t change_number(uint8_t *data, size_t size, size_t most, uint64_t *random)
{
    static const char *const limits[] = {
        "0", "1", "2", "3", "4", "5", "7", "8", "15", "16", "17", "32", "33", "64", "65", "127",
        "128", "255", "256", "1000", "1024", "4096", "65535", "65536", "1000000", "16777216",
        "1000000000", "2147483647", "2147483648", "4294967295", "4294967296", "9007199254740993",
        "9223372036854775807", "18446744073709551615", "18446744073709551616", "-1", "-2", "-3",
        "-128", "-2147483648", "1e9", "1e-9", "1e39", "0.5", "1e400", "-1e400", "00"};
    size_t length, from_length, at, from;
    char text[24];
    at = find(data, size, random, 1, &length);
    if (!length) return size;
    if (below(random, 3) == 0) { /* one more or one less */
        unsigned value = 0;
        for (from = 0; from < length && from < 9; ++from)
            value = value * 10 + (unsigned)(data[at + from] - '0');
        snprintf(text, sizeof text, "%d", (int)value + (below(random, 2) ? 1 : -1));
        return put(data, size, most, at, length, text, strlen(text));
    }
    if (below(random, 2)) { /* another one of the same text: edges, sizes that are equal elsewhere */
        from = find(data, size, random, 1, &from_length);
        if (from_length > sizeof text) return size;
        memcpy(text, data + from, from_length);
        return put(data, size, most, at, length, text, from_length);
    }
    from = below(random, sizeof limits / sizeof limits[0]);
    return put(data, size, most, at, length, limits[from], strlen(limits[from]));
}

static size_t change_word(uint8_t *data, size_t size, size_t most, uint64_t *random)
{
    size_t length, from_length, at, from;
    uint8_t word[64];
    at = find(data, size, random, 0, &length);
    from = find(data, size, random, 0, &from_length);
    if (!length || from_length > sizeof word) return size;
    memcpy(word, data + from, from_length);
    return put(data, size, most, at, length, word, from_length);
}

/* One element of a list, {...} or [...] or a field of a table: doubled or left out. */
static size_t change_piece(uint8_t *data, size_t size, size_t most, uint64_t *random)
{
    size_t at = below(random, size), end, tried;
    uint8_t piece[256];
    for (tried = 0; tried < size && !strchr(",{[\n\t", data[at]); ++tried) at = (at + 1) % size;
    end = at + 1;
    while (end < size && end - at < sizeof piece && !strchr(",}]\n\t", data[end])) ++end;
    if (end >= size || end - at > sizeof piece) return size;
    memcpy(piece, data + at, end - at);
    if (below(random, 2)) return put(data, size, most, at, end - at, "", 0);
    return put(data, size, most, at, 0, piece, end - at);
}

static size_t change_bytes(uint8_t *data, size_t size, size_t most, uint64_t *random)
{
    static const uint64_t limits[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff,
        0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
        0x8000000000000000, 0xffffffffffffffff};
    size_t at = below(random, size), length = (size_t)1 << below(random, 4), from;
    uint8_t bytes[64];
    uint64_t value = limits[below(random, sizeof limits / sizeof limits[0])];
    switch (below(random, 7)) {
    case 0: data[at] = (uint8_t)(data[at] ^ (1u << below(random, 8))); return size;
    case 1: data[at] = (uint8_t)next(random); return size;
    case 2: data[at] = (uint8_t)(data[at] + (below(random, 2) ? 1 : 255)); return size;
    case 3: /* little endian, of 1, 2, 4 or 8 bytes */
        for (from = 0; from < length && at + from < size; ++from)
            data[at + from] = (uint8_t)(value >> 8 * from);
        return size;
    case 4: /* a stretch is left out */
        length = 1 + below(random, size - at < 64 ? size - at : 64);
        return put(data, size, most, at, length, "", 0);
    case 5: /* a stretch from elsewhere, put in or written over */
        length = 1 + below(random, 64);
        from = below(random, size);
        if (length > size - from) length = size - from;
        memcpy(bytes, data + from, length);
        return put(data, size, most, at, below(random, 2) && length <= size - at ? length : 0,
                   bytes, length);
    default: /* the end is missing */
        return below(random, 8) ? size : at + 1;
    }
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t most, uint64_t *random, int text)
{
    size_t count = 1 + below(random, below(random, 4) ? 3 : 12);
    for (; count > 0; --count) {
        if (size == 0) {
            data[0] = (uint8_t)next(random);
            return 1;
        }
        if ((int)below(random, 10) >= text) size = change_bytes(data, size, most, random);
        else switch (below(random, 8)) {
        case 0: size = change_word(data, size, most, random); break;
        case 1: size = change_piece(data, size, most, random); break;
        default: size = change_number(data, size, most, random);
        }
    }
    return size;
}
