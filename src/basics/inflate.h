#pragma once
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/inflate: Deflated data
   What zip archives and PNG files are compressed with (RFC 1951): codes of up to 15 bits, each a
   byte or a length with a distance, that repeats bytes made before. The bytes are written or only
   counted.
   ============================================================================================= */
typedef struct ft__inflate_codes {
    uint16_t quick[512];    /* by the next 9 bits: length << 9 | symbol; 0: longer */
    uint16_t counts[16];    /* of codes of so many bits */
    uint16_t symbols[288];  /* in the order of their codes */
} ft__inflate_codes;

typedef struct ft__inflate ft__inflate;
struct ft__inflate {
    const unsigned char *bytes; /* the file */
    size_t count, at, left; /* `left` bytes of a part from `at` on; if there are none, `more` ... */
    bool (*more)(ft__inflate *z); /* ... goes to the next part; false: there is none. Or NULL */
    uint64_t bits;          /* the next, from the bottom */
    int bit_count;
    unsigned char *to;      /* for what is made; or NULL */
    uint64_t total, most;   /* bytes that were made, and that there may be */
    ft__inflate_codes codes, distances;
    bool damaged;
};

static void ft__inflate_fill(ft__inflate *z)
{
    while (z->bit_count <= 56 && (z->left > 0 || (z->more && z->more(z)))) {
        z->bits |= (uint64_t)z->bytes[z->at++] << z->bit_count;
        z->left -= 1;
        z->bit_count += 8;
    }
}

static void ft__inflate_drop(ft__inflate *z, int count)
{
    if (count > z->bit_count) z->damaged = true;
    else {
        z->bits >>= count;
        z->bit_count -= count;
    }
}

static int ft__inflate_number(ft__inflate *z, int count)
{
    int number;
    if (z->bit_count < count) ft__inflate_fill(z);
    number = (int)(z->bits & (((uint64_t)1 << count) - 1));
    ft__inflate_drop(z, count);
    return number;
}

/* Codes of each length are numbers that count up; their bits come from the top. */
static void ft__inflate_make(ft__inflate_codes *codes, const uint8_t *lengths, int count)
{
    int first[16], next = 0, code = 0, bits, i, k;
    memset(codes, 0, sizeof *codes);
    for (i = 0; i < count; ++i) codes->counts[lengths[i]] += 1;
    codes->counts[0] = 0;
    for (bits = 1; bits < 16; ++bits) {
        for (i = 0; i < count; ++i)
            if (lengths[i] == bits) codes->symbols[next++] = (uint16_t)i;
        first[bits] = next - codes->counts[bits];
        for (k = 0; bits <= 9 && k < codes->counts[bits] && code + k < 1 << bits; ++k) {
            int reversed = 0, at;
            for (at = 0; at < bits; ++at) reversed |= ((code + k) >> at & 1) << (bits - 1 - at);
            for (; reversed < 512; reversed += 1 << bits)
                codes->quick[reversed] = (uint16_t)(bits << 9 | codes->symbols[first[bits] + k]);
        }
        code = (code + codes->counts[bits]) << 1;
    }
}

static int ft__inflate_symbol(ft__inflate *z, const ft__inflate_codes *codes)
{
    int quick, code = 0, first = 0, index = 0, bits;
    if (z->bit_count < 15) ft__inflate_fill(z);
    quick = codes->quick[z->bits & 511];
    if (quick) {
        ft__inflate_drop(z, quick >> 9);
        return quick & 511;
    }
    for (bits = 1; bits < 16; ++bits) {
        int count = codes->counts[bits];
        code |= (int)(z->bits >> (bits - 1) & 1);
        if (code - count < first) {
            ft__inflate_drop(z, bits);
            return codes->symbols[index + code - first];
        }
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    z->damaged = true;
    return 0;
}

static void ft__inflate_tables(ft__inflate *z, bool dynamic)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1,
                                      15};
    uint8_t lengths[320];
    int literals = 288, distances = 30, count = 0, i, all, symbol, value;
    memset(lengths, 0, sizeof lengths);
    if (!dynamic) {
        for (i = 0; i < 288; ++i)
            lengths[i] = (uint8_t)(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
        memset(lengths + 288, 5, 30);
    } else {
        literals = 257 + ft__inflate_number(z, 5);
        distances = 1 + ft__inflate_number(z, 5);
        all = 4 + ft__inflate_number(z, 4);
        for (i = 0; i < all; ++i) lengths[order[i]] = (uint8_t)ft__inflate_number(z, 3);
        ft__inflate_make(&z->codes, lengths, 19);
        all = literals + distances;
        memset(lengths, 0, sizeof lengths);
        if (literals > 286) z->damaged = true;
        while (count < all && !z->damaged) {
            symbol = ft__inflate_symbol(z, &z->codes);
            value = symbol < 16 ? symbol : symbol == 16 && count ? lengths[count - 1] : 0;
            i = symbol < 16 ? 1 : symbol == 16 ? 3 + ft__inflate_number(z, 2)
                : symbol == 17 ? 3 + ft__inflate_number(z, 3) : 11 + ft__inflate_number(z, 7);
            if (i > all - count) z->damaged = true;
            for (; i > 0 && !z->damaged; --i) lengths[count++] = (uint8_t)value;
        }
    }
    if (z->damaged) return;
    ft__inflate_make(&z->codes, lengths, literals);
    ft__inflate_make(&z->distances, lengths + literals, distances);
}

/* A byte more, and where there is room written. */
static void ft__inflate_put(ft__inflate *z, int value)
{
    if (z->to && z->total < z->most) z->to[z->total] = (unsigned char)value;
    z->total += 1;
}

static void ft__inflate_stored(ft__inflate *z)
{
    int bytes;
    ft__inflate_drop(z, z->bit_count % 8);
    bytes = ft__inflate_number(z, 16);
    if (bytes != (ft__inflate_number(z, 16) ^ 0xffff)) z->damaged = true;
    for (; bytes > 0 && !z->damaged; --bytes) ft__inflate_put(z, ft__inflate_number(z, 8));
}

/* `length` bytes again that were made `distance` bytes before. */
static void ft__inflate_again(ft__inflate *z, int length, int distance)
{
    if ((uint64_t)distance > z->total) z->damaged = true;
    if (!z->to) z->total += (uint64_t)length;
    for (; z->to && length > 0 && !z->damaged && z->total < z->most; --length)
        ft__inflate_put(z, z->to[z->total - (uint64_t)distance]);
    if (z->to && length > 0) z->total += (uint64_t)length;
}

/* A byte, or a length and a distance; returns false at the end of the block. */
static bool ft__inflate_step(ft__inflate *z)
{
    int symbol = ft__inflate_symbol(z, &z->codes), extra, length;
    if (symbol < 256) ft__inflate_put(z, symbol);
    if (symbol <= 256) return symbol < 256;
    symbol -= 257;
    if (symbol > 28) z->damaged = true;
    extra = symbol < 8 || symbol > 27 ? 0 : symbol / 4 - 1;
    length = symbol > 27 ? 258 : symbol < 8 ? 3 + symbol : 3 + ((4 + symbol % 4) << extra);
    length += ft__inflate_number(z, extra);
    symbol = ft__inflate_symbol(z, &z->distances);
    if (symbol > 29) z->damaged = true;
    if (z->damaged) return false;
    extra = symbol < 4 ? 0 : symbol / 2 - 1;
    ft__inflate_again(z, length, 1 + (symbol < 4 ? symbol : (2 + symbol % 2) << extra)
                      + ft__inflate_number(z, extra));
    return true;
}

/* Whether the data ends, as deflate has it, and makes at most so many bytes. They go to z->to,
   which has room for them, or nowhere if it is NULL. */
static FT__UNUSED bool ft__inflates_within(ft__inflate *z, uint64_t most)
{
    bool last = false;
    int kind;
    z->most = most;
    while (!last && !z->damaged && z->total <= most) {
        last = ft__inflate_number(z, 1);
        kind = ft__inflate_number(z, 2);
        if (kind == 3) z->damaged = true;
        if (kind == 0) ft__inflate_stored(z);
        if (kind == 0 || kind == 3) continue;
        ft__inflate_tables(z, kind == 2);
        while (!z->damaged && z->total <= most && ft__inflate_step(z)) {}
    }
    return !z->damaged && z->total <= most;
}

/* The checksum of zip archives and PNG chunks, continued over some bytes; it begins with 0. */
static FT__UNUSED uint32_t ft__crc(uint32_t crc, const unsigned char *bytes, size_t count)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158,
        0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4,
        0xA00AE278, 0xBDBDF21C};
    for (crc = ~crc; count > 0; --count) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

