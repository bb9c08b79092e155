#pragma once
#include "data/image_headers.h"

/* =============================================================================================
   [SECTION] data/image_rows: BMP, PPM, PGM and GIF
   Formats that are little more than rows of samples are decoded here, to the same samples as
   Pillow's convert("RGB"): stb_image reads several of their forms differently. Of a GIF only the
   first frame is decoded; pixels outside it, or transparent, look as in Pillow.
   Each decoder fills width * height * 3 bytes and returns NULL, or what is wrong.
   ============================================================================================= */
#ifdef STBI_VERSION

/* ---- BMP ---- */

/* Expands a pixel's field of 5, 6 or 8 bits to 8 bits, rounded down as in Pillow. */
static uint8_t ft__masked(uint32_t pixel, uint32_t mask)
{
    while (!(mask & 1)) {
        mask >>= 1;
        pixel >>= 1;
    }
    return (uint8_t)((pixel & mask) * 255 / mask);
}

static bool ft__bmp_masks_known(const ft__image_header *h)
{
    int i;
    for (i = 0; i < 3; ++i) {
        uint32_t mask = h->masks[i];
        if (!mask || (h->bits < 32 && mask >> h->bits)) return false;
        while (!(mask & 1)) mask >>= 1;
        if (mask != 0x1F && mask != 0x3F && mask != 0xFF) return false;
    }
    return true;
}

static const char *ft__decode_bmp(const unsigned char *b, const ft__image_header *h, uint8_t *to)
{
    size_t row = ((size_t)h->width * h->bits + 31) / 32 * 4;
    int x, y;
    if (h->bits > 8 && !ft__bmp_masks_known(h))
        return "a BMP with unknown colour masks is not supported";
    for (y = 0; y < h->height; ++y) {
        const unsigned char *at = b + h->data + row * (size_t)(h->top_down ? y : h->height - 1 - y);
        for (x = 0; x < h->width; ++x, to += 3) {
            uint32_t pixel, bit = (uint32_t)x * h->bits;
            if (h->bits > 8) {
                pixel = ft__low_first(at + (size_t)x * (h->bits / 8), (int)h->bits / 8);
                to[0] = ft__masked(pixel, h->masks[0]);
                to[1] = ft__masked(pixel, h->masks[1]);
                to[2] = ft__masked(pixel, h->masks[2]);
                continue;
            }
            pixel = (uint32_t)at[bit / 8] >> (8 - h->bits - bit % 8) & ((1u << h->bits) - 1);
            if (pixel < h->colours) {
                const unsigned char *entry = b + h->palette + h->palette_entry * pixel;
                to[0] = entry[2];
                to[1] = entry[1];
                to[2] = entry[0];
            } else to[0] = to[1] = to[2] = 0;
        }
    }
    return NULL;
}

/* ---- PPM and PGM ---- */

/* value / largest * 255; halves round to the even number, as in Python. */
static uint8_t ft__scaled(uint32_t value, uint32_t largest)
{
    double exact = (double)value / (double)largest * 255;
    int down = (int)exact;
    double rest = exact - down;
    if (exact >= 255) return 255;
    return (uint8_t)(rest > 0.5 || (rest == 0.5 && down % 2) ? down + 1 : down);
}

static const char *ft__decode_pnm(const unsigned char *b, const ft__image_header *h, uint8_t *to)
{
    size_t pixels = (size_t)h->width * (size_t)h->height, i;
    const unsigned char *at = b + h->data;
    uint32_t channel;
    uint8_t scaled[256];
    if (h->largest == 255 && h->colours == 3) {
        memcpy(to, at, 3 * pixels);
        return NULL;
    }
    for (i = 0; i < 256; ++i) scaled[i] = ft__scaled((uint32_t)i, h->largest);
    for (i = 0; i < pixels; ++i, to += 3)
        for (channel = 0; channel < 3; ++channel) {
            to[channel] = scaled[*at];
            if (channel == 2 || h->colours == 3) at += 1;
        }
    return NULL;
}

/* ---- GIF ---- */
typedef struct ft__gif {
    const unsigned char *at, *end; /* in a frame's data, which is in blocks of up to 255 bytes */
    size_t block;                  /* bytes left in this block */
    uint32_t bits;
    int bit_count;
    int left, top, width, height;  /* of the frame */
    bool interlaced;
    int background;                /* colour index of pixels outside the frame */
    uint8_t colours[256][3];
} ft__gif;

/* Returns the next code of `bits` bits, or -1. */
static int ft__gif_code(ft__gif *g, int bits)
{
    int code;
    while (g->bit_count < bits) {
        if (!g->block) {
            if (g->at >= g->end || !*g->at) return -1;
            g->block = *g->at++;
        }
        if (g->at >= g->end) return -1;
        g->bits |= (uint32_t)*g->at++ << g->bit_count;
        g->bit_count += 8;
        g->block -= 1;
    }
    code = (int)(g->bits & ((1u << bits) - 1));
    g->bits >>= bits;
    g->bit_count -= bits;
    return code;
}

/* Reads a palette of 2 << (flags & 7) entries; the other colours are black, as in Pillow. */
static const unsigned char *ft__gif_palette(ft__gif *g, const unsigned char *at,
                                            const unsigned char *end, int flags)
{
    size_t bytes = (size_t)3 << ((flags & 7) + 1);
    if ((size_t)(end - at) < bytes) return end;
    memset(g->colours, 0, sizeof g->colours);
    memcpy(g->colours, at, bytes);
    return at + bytes;
}

/* Reads blocks up to the data of the first frame. */
static const char *ft__gif_frame(ft__gif *g, const unsigned char *b, size_t count,
                                 const ft__image_header *h)
{
    const unsigned char *at = b + 13, *end = b + count;
    int i;
    for (i = 0; i < 256; ++i) memset(g->colours[i], i, 3); /* without a palette: grey */
    if (b[10] & 0x80) at = ft__gif_palette(g, at, end, b[10]);
    while (at < end && *at != 0x2C) {
        if (*at != 0x21) return *at == 0x3B ? "a GIF without a picture"
                                            : "damaged: an unknown block";
        if (end - at < 2) return ft__ends_early;
        if (at[1] == 0xF9 && end - at > 6 && at[2] >= 4 && at[3] & 1) g->background = at[6];
        for (at += 2; at < end && *at; ) {
            if ((size_t)(end - at) <= *at) return ft__ends_early;
            at += 1 + (size_t)*at;
        }
        if (at < end) at += 1;
    }
    if (end - at < 11) return ft__ends_early;
    g->left = (int)ft__low_first(at + 1, 2);
    g->top = (int)ft__low_first(at + 3, 2);
    g->width = (int)ft__low_first(at + 5, 2);
    g->height = (int)ft__low_first(at + 7, 2);
    g->interlaced = at[9] & 0x40;
    if (g->width < 1 || g->height < 1 || g->left + g->width > h->width
        || g->top + g->height > h->height)
        return "damaged: its first frame is not inside the picture";
    if (at[9] & 0x80) at = ft__gif_palette(g, at + 10, end, at[9]);
    else at += 10;
    g->at = at++;
    g->end = end;
    while (at < end && *at) at = (size_t)(end - at) > *at ? at + 1 + (size_t)*at : end;
    return at < end ? NULL : ft__ends_early;
}

/* The frame's row that is stored as row y. In an interlaced frame every eighth row comes first,
   then the rows halfway between, and so on. */
static int ft__gif_row(const ft__gif *g, int y)
{
    static const int first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    int pass;
    for (pass = 0; g->interlaced && pass < 4; ++pass) {
        int rows = (g->height - first[pass] + step[pass] - 1) / step[pass];
        if (y < rows) return first[pass] + y * step[pass];
        y -= rows;
    }
    return y;
}

static void ft__gif_put(const ft__gif *g, const ft__image_header *h, size_t pixel, int index,
                        uint8_t *to)
{
    size_t x = pixel % (size_t)g->width, y = pixel / (size_t)g->width;
    size_t row = (size_t)(g->top + ft__gif_row(g, (int)y));
    memcpy(to + 3 * (row * (size_t)h->width + (size_t)g->left + x), g->colours[index], 3);
}

/* LZW (GIF89a, appendix F): a code means an index, or an earlier code's string and one more index.
   A string is written from its end. */
static const char *ft__gif_pixels(ft__gif *g, const ft__image_header *h, uint8_t *to)
{
    uint16_t prefix[4096];
    uint16_t length[4096];
    uint8_t last[4096], first[4096];
    size_t done = 0, all = (size_t)g->width * (size_t)g->height;
    int smallest = *g->at++, clear, next, bits, old = -1, code, i;
    if (smallest < 2 || smallest > 8) return ft__damaged_header;
    clear = 1 << smallest;
    for (i = 0; i < clear; ++i) {
        prefix[i] = 0;
        length[i] = 1;
        first[i] = last[i] = (uint8_t)i;
    }
    next = clear + 2;
    bits = smallest + 1;
    while (done < all) {
        size_t at, string;
        code = ft__gif_code(g, bits);
        if (code < 0 || code == clear + 1) return ft__ends_early;
        if (code == clear) {
            next = clear + 2;
            bits = smallest + 1;
            old = -1;
            continue;
        }
        if (code > next || (code >= clear && code < clear + 2) || (old < 0 && code >= clear)
            || (code == next && (old < 0 || next > 4095))) return "damaged: an unknown code";
        if (old >= 0 && next < 4096) {
            prefix[next] = (uint16_t)old;
            length[next] = (uint16_t)(length[old] + 1);
            first[next] = first[old];
            last[next] = first[code == next ? old : code];
            next += 1;
            if (next == 1 << bits && bits < 12) bits += 1;
        }
        string = length[code];
        for (i = code, at = done + string; at > done; i = prefix[i])
            if (--at < all) ft__gif_put(g, h, at, last[i], to);
        done += string;
        old = code;
    }
    return NULL;
}

static const char *ft__decode_gif(const unsigned char *b, size_t count, const ft__image_header *h,
                                  uint8_t *to)
{
    size_t pixels = (size_t)h->width * (size_t)h->height, i;
    ft__gif g;
    const char *fault;
    memset(&g, 0, sizeof g);
    fault = ft__gif_frame(&g, b, count, h);
    if (fault) return fault;
    if ((size_t)g.width * (size_t)g.height < pixels)
        for (i = 0; i < pixels; ++i) memcpy(to + 3 * i, g.colours[g.background], 3);
    return ft__gif_pixels(&g, h, to);
}
#endif
