#pragma once
#include "basics/inflate.h"
#include "data/image_headers.h"

/* =============================================================================================
   [SECTION] data/image_damage: Damaged JPEG and PNG files
   stb_image returns a picture even for damaged files, with the rest of it grey or undefined. It
   checks no checksum, and trusts a few numbers that it should not. So files are checked here first.
   Each function returns NULL for a file that is complete.
   ============================================================================================= */
#ifdef STBI_VERSION

/* ---- JPEG, quickly: before every decoding ---- */
enum { FT__MOST_SCANS = 256 }; /* a scan takes as long as the picture is large; encoders make 10 */

/* A segment of Huffman tables: a byte of kind, 16 counts, and their values, at most 256. */
static bool ft__jpeg_tables(const unsigned char *bytes, size_t count)
{
    size_t at = 0;
    while (at < count) {
        size_t values = 0;
        int i;
        if (count - at < 17) return false;
        for (i = 1; i <= 16; ++i) values += bytes[at + (size_t)i];
        if (values > 256 || values > count - at - 17) return false;
        at += 17 + values;
    }
    return true;
}

/* Segments of stated length, then compressed data in which 0xFF precedes 0, a restart number or the
   next segment, up to the end marker. */
static const char *ft__jpeg_fault(const unsigned char *bytes, size_t count)
{
    size_t at = 2;
    int scans = 0;
    while (at + 1 < count) {
        int marker = bytes[at + 1];
        size_t length;
        if (bytes[at] != 0xFF || marker == 0xFF) {
            at += 1;
            continue;
        }
        if (marker == 0xD9) return NULL;
        at += 2;
        if (marker <= 1 || (marker >= 0xD0 && marker <= 0xD8)) continue;
        if (count - at < 2) break;
        length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2) return "damaged: a segment is too short";
        if (length > count - at) break;
        if (marker == 0xC4 && !ft__jpeg_tables(bytes + at + 2, length - 2))
            return "damaged: a Huffman table is wrong";
        if (marker == 0xDA && ++scans > FT__MOST_SCANS) return "damaged: more than 256 scans";
        at += length;
    }
    return ft__ends_early;
}

/* ---- JPEG, code by code: once ----
   This reads every scan as a decoder does, without computing a pixel (ITU-T T.81, annexes F and G).
   Its codes must be complete, and as many as the picture has blocks; only padding may follow them.
   A progressive scan that refines AC coefficients has a bit for each that an earlier scan made
   nonzero, so for each block those are remembered: 1 bit a coefficient, of which stb_image then
   allocates 16. */
static const char ft__jpeg_bad_code[] = "damaged: an unknown Huffman code";
static const char ft__jpeg_no_code[] = "damaged: its data ends before the last block";
static const char ft__jpeg_more_data[] = "damaged: there is data after the last block";
static const char ft__jpeg_no_restart[] = "damaged: a restart marker is missing";
static const char ft__jpeg_no_memory[] = "not enough memory to check it";

typedef struct ft__jpeg_codes {
    bool there;
    uint16_t quick[512];    /* by the next 9 bits: length << 8 | value; 0: a longer code */
    int32_t end[18];        /* by length: one past the last such code, shifted to 16 bits */
    int32_t offset[17];     /* by length: add it to a code for the index of its value */
    uint8_t values[256];
} ft__jpeg_codes;

typedef struct ft__jpeg_part {
    int across, down, quantum, dc, ac;
    bool seen;
    uint64_t *nonzero;      /* progressive: a mask of coefficients for each block that has pixels */
} ft__jpeg_part;

typedef struct ft__jpeg_walk {
    const unsigned char *bytes;
    size_t count, at;
    uint64_t bits;          /* the next bits, the first on top */
    int bit_count;
    ft__jpeg_codes codes[2][4]; /* DC, AC */
    ft__jpeg_part parts[4];
    int ids[4], part_count, width, height, most_across, most_down, restart;
    int scan[4], scan_count, first, last, high; /* the scan's parts and range of coefficients */
    int skip;               /* blocks that an end-of-band code left empty */
    bool progressive, quantum_there[4];
    const char *fault;
} ft__jpeg_walk;

static void ft__jpeg_fill(ft__jpeg_walk *w)
{
    while (w->bit_count <= 56 && w->at < w->count) {
        unsigned char byte = w->bytes[w->at];
        if (byte == 0xFF) {
            if (w->at + 1 >= w->count || w->bytes[w->at + 1] != 0) return; /* a marker */
            w->at += 1;
        }
        w->at += 1;
        w->bits |= (uint64_t)byte << (56 - w->bit_count);
        w->bit_count += 8;
    }
}

static void ft__jpeg_drop(ft__jpeg_walk *w, int count)
{
    if (count > w->bit_count) ft__jpeg_fill(w);
    if (count > w->bit_count) {
        w->fault = ft__jpeg_no_code;
        return;
    }
    w->bits = count < 64 ? w->bits << count : 0;
    w->bit_count -= count;
}

static int ft__jpeg_number(ft__jpeg_walk *w, int count)
{
    int number;
    if (!count) return 0;
    if (count > w->bit_count) ft__jpeg_fill(w);
    number = (int)(w->bits >> (64 - count));
    ft__jpeg_drop(w, count);
    return number;
}

static int ft__jpeg_symbol(ft__jpeg_walk *w, const ft__jpeg_codes *codes)
{
    int32_t next;
    int bits;
    if (w->bit_count < 16) ft__jpeg_fill(w);
    next = codes->quick[w->bits >> 55];
    if (next) {
        ft__jpeg_drop(w, next >> 8);
        return next & 255;
    }
    next = (int32_t)(w->bits >> 48);
    for (bits = 1; bits <= 16 && next >= codes->end[bits]; ++bits) {}
    if (bits > 16) {
        w->fault = w->bit_count < 16 ? ft__jpeg_no_code : ft__jpeg_bad_code;
        return 0;
    }
    ft__jpeg_drop(w, bits);
    return codes->values[((next >> (16 - bits)) + codes->offset[bits]) & 255];
}

/* Reads a segment's tables: the codes of each length are consecutive numbers. */
static void ft__jpeg_read_codes(ft__jpeg_walk *w, const unsigned char *at, size_t count)
{
    size_t used = 0;
    while (count - used >= 17 && !w->fault) {
        const unsigned char *counts = at + used, *values = counts + 17;
        ft__jpeg_codes *codes = &w->codes[counts[0] >> 4 & 1][counts[0] & 3];
        int32_t code = 0;
        int bits, i, value = 0;
        memset(codes, 0, sizeof *codes);
        for (bits = 1; bits <= 16; ++bits) {
            codes->offset[bits] = value - code;
            for (i = 0; i < counts[bits]; ++i, ++code, ++value) {
                int low = code << (9 - (bits < 9 ? bits : 9)), k;
                codes->values[value] = values[value];
                for (k = 0; bits <= 9 && k < 1 << (9 - bits) && low + k < 512; ++k)
                    codes->quick[low + k] = (uint16_t)(bits << 8 | values[value]);
            }
            if (code > (int32_t)1 << bits) w->fault = "damaged: a Huffman table is wrong";
            codes->end[bits] = code << (16 - bits);
            code <<= 1;
        }
        codes->there = true;
        used += 17 + (size_t)value;
    }
}

/* Quantisation tables: a byte of precision and number, then 64 steps of 1 or 2 bytes. */
static void ft__jpeg_read_quanta(ft__jpeg_walk *w, const unsigned char *at, size_t count)
{
    while (count > 0) {
        size_t bytes = at[0] >> 4 ? 129 : 65;
        if (at[0] >> 4 > 1 || (at[0] & 15) > 3 || bytes > count) {
            w->fault = "damaged: a quantisation table is wrong";
            return;
        }
        w->quantum_there[at[0] & 3] = true;
        at += bytes;
        count -= bytes;
    }
}

static const char *ft__jpeg_frame(ft__jpeg_walk *w, const unsigned char *at, size_t count)
{
    int i;
    if (count < 6 || count != 6 + 3 * (size_t)at[5] || w->part_count) return ft__damaged_header;
    w->height = (int)ft__high_first(at + 1, 2);
    w->width = (int)ft__high_first(at + 3, 2);
    w->part_count = at[5];
    if (w->part_count < 1 || w->part_count > 4) return ft__damaged_header;
    for (i = 0; i < w->part_count; ++i) {
        ft__jpeg_part *part = &w->parts[i];
        w->ids[i] = at[6 + 3 * i];
        part->across = at[7 + 3 * i] >> 4;
        part->down = at[7 + 3 * i] & 15;
        part->quantum = at[8 + 3 * i] & 3;
        if (part->across < 1 || part->across > 4 || part->down < 1 || part->down > 4)
            return ft__damaged_header;
        if (part->across > w->most_across) w->most_across = part->across;
        if (part->down > w->most_down) w->most_down = part->down;
    }
    return NULL;
}

/* Reads a scan's header: its parts, their tables, and its range of coefficients. */
static const char *ft__jpeg_scan_header(ft__jpeg_walk *w, const unsigned char *at, size_t count)
{
    int i, p;
    if (count < 1 || at[0] < 1 || at[0] > 4 || count != 4 + 2 * (size_t)at[0] || !w->part_count)
        return ft__damaged_header;
    w->scan_count = at[0];
    w->first = at[1 + 2 * at[0]];
    w->last = at[2 + 2 * at[0]];
    w->high = at[3 + 2 * at[0]] >> 4;
    if (w->first > w->last || w->last > 63 || (w->progressive && w->first && w->scan_count > 1))
        return ft__damaged_header;
    for (i = 0; i < w->scan_count; ++i) {
        bool dc = w->first == 0 && !w->high, ac = !w->progressive || w->first > 0;
        for (p = 0; p < w->part_count && w->ids[p] != at[1 + 2 * i]; ++p) {}
        if (p == w->part_count) return ft__damaged_header;
        w->scan[i] = p;
        w->parts[p].dc = at[2 + 2 * i] >> 4 & 3;
        w->parts[p].ac = at[2 + 2 * i] & 3;
        w->parts[p].seen = w->parts[p].seen || w->first == 0;
        if (!w->quantum_there[w->parts[p].quantum]
            || (dc && !w->codes[0][w->parts[p].dc].there)
            || (ac && !w->codes[1][w->parts[p].ac].there)) return "damaged: a table is missing";
    }
    return NULL;
}

static void ft__jpeg_dc(ft__jpeg_walk *w, const ft__jpeg_part *part)
{
    int bits = ft__jpeg_symbol(w, &w->codes[0][part->dc]);
    if (bits > 16) w->fault = ft__jpeg_bad_code;
    else ft__jpeg_drop(w, bits);
}

/* Reads runs of zeros and their coefficients up to the end of this block, or of many blocks.
   `nonzero`: where those are remembered, or NULL. */
static void ft__jpeg_ac(ft__jpeg_walk *w, const ft__jpeg_part *part, int first, int last,
                        uint64_t *nonzero)
{
    int k = first;
    if (w->skip > 0) {
        w->skip -= 1;
        return;
    }
    while (k <= last && !w->fault) {
        int symbol = ft__jpeg_symbol(w, &w->codes[1][part->ac]), run = symbol >> 4;
        if (symbol & 15) {
            k += run + 1;
            if (k > last + 1) w->fault = ft__jpeg_bad_code;
            else ft__jpeg_drop(w, symbol & 15);
            if (nonzero && k <= last + 1) *nonzero |= (uint64_t)1 << (k - 1);
        } else if (run == 15) k += 16;
        else {
            w->skip = w->progressive ? (1 << run) - 1 + ft__jpeg_number(w, run) : 0;
            return;
        }
    }
}

/* The same for one more bit of each (annex G.1.2.3): runs count only coefficients that are still 0;
   those that are not have a bit each, also in the blocks that an end-of-band code covers. */
static void ft__jpeg_refine(ft__jpeg_walk *w, const ft__jpeg_part *part, uint64_t *nonzero)
{
    int k;
    for (k = w->first; k <= w->last && !w->skip && !w->fault; ++k) {
        int symbol = ft__jpeg_symbol(w, &w->codes[1][part->ac]), run = symbol >> 4;
        if ((symbol & 15) > 1) w->fault = ft__jpeg_bad_code;
        else if (symbol & 15) ft__jpeg_drop(w, 1);
        else if (run < 15) {
            w->skip = (1 << run) + ft__jpeg_number(w, run);
            break;
        }
        for (; k <= w->last && !w->fault; ++k) {
            if (*nonzero >> k & 1) ft__jpeg_drop(w, 1);
            else if (run-- == 0) break;
        }
        if ((symbol & 15) && k > w->last) w->fault = ft__jpeg_bad_code;
        else if (symbol & 15) *nonzero |= (uint64_t)1 << k;
    }
    if (w->skip == 0) return;
    w->skip -= 1;
    for (; k <= w->last && !w->fault; ++k)
        if (*nonzero >> k & 1) ft__jpeg_drop(w, 1);
}

static void ft__jpeg_block(ft__jpeg_walk *w, const ft__jpeg_part *part, int64_t unit)
{
    if (!w->progressive) {
        ft__jpeg_dc(w, part);
        ft__jpeg_ac(w, part, 1, 63, NULL);
    } else if (w->first > 0 && w->high) ft__jpeg_refine(w, part, &part->nonzero[unit]);
    else if (w->first > 0) ft__jpeg_ac(w, part, w->first, w->last, &part->nonzero[unit]);
    else if (w->high) ft__jpeg_drop(w, 1);
    else ft__jpeg_dc(w, part);
}

/* Ends a scan or interval: after its codes there may be less than a byte, then only padding. */
static void ft__jpeg_align(ft__jpeg_walk *w)
{
    ft__jpeg_fill(w);
    if (w->bit_count % 8) ft__jpeg_drop(w, w->bit_count % 8);
    while (w->bit_count >= 8 && !w->fault) {
        int byte = (int)(w->bits >> 56);
        if (byte != 0 && byte != 0xFF) w->fault = ft__jpeg_more_data;
        ft__jpeg_drop(w, 8);
        ft__jpeg_fill(w);
    }
    w->skip = 0;
}

static void ft__jpeg_restart(ft__jpeg_walk *w, int number)
{
    ft__jpeg_align(w);
    while (w->at + 1 < w->count && w->bytes[w->at] == 0xFF && w->bytes[w->at + 1] == 0xFF)
        w->at += 1;
    if (w->fault) return;
    if (w->at + 1 >= w->count || w->bytes[w->at] != 0xFF
        || w->bytes[w->at + 1] != 0xD0 + number % 8) w->fault = ft__jpeg_no_restart;
    w->at += 2;
}

static int ft__rounded_up(int count, int by) { return (count + by - 1) / by; }

/* In a scan of several parts each unit has across * down blocks; of one part, blocks with pixels.
   */
static void ft__jpeg_scan(ft__jpeg_walk *w)
{
    ft__jpeg_part *one = &w->parts[w->scan[0]];
    bool alone = w->scan_count == 1;
    int64_t units, unit;
    int i, k, across = w->width, down = w->height;
    if (alone) {
        across = ft__rounded_up(w->width * one->across, w->most_across);
        down = ft__rounded_up(w->height * one->down, w->most_down);
    }
    units = (int64_t)ft__rounded_up(across, alone ? 8 : 8 * w->most_across)
            * ft__rounded_up(down, alone ? 8 : 8 * w->most_down);
    w->bits = 0;
    w->bit_count = w->skip = 0;
    if (w->progressive && w->first > 0 && !one->nonzero) {
        one->nonzero = (uint64_t *)calloc((size_t)units, sizeof *one->nonzero);
        if (!one->nonzero) w->fault = ft__jpeg_no_memory;
    }
    for (unit = 0; unit < units && !w->fault; ++unit) {
        if (w->restart && unit && unit % w->restart == 0)
            ft__jpeg_restart(w, (int)((unit / w->restart - 1) % 8));
        for (i = 0; i < w->scan_count; ++i) {
            const ft__jpeg_part *part = &w->parts[w->scan[i]];
            for (k = 0; k < (alone ? 1 : part->across * part->down) && !w->fault; ++k)
                ft__jpeg_block(w, part, unit);
        }
    }
    if (!w->fault) ft__jpeg_align(w);
}

static void ft__jpeg_segment(ft__jpeg_walk *w, int marker, const unsigned char *at, size_t count)
{
    if (marker == 0xC4) ft__jpeg_read_codes(w, at, count);
    if (marker == 0xDB) ft__jpeg_read_quanta(w, at, count);
    if (marker == 0xDD && count >= 2) w->restart = (int)ft__high_first(at, 2);
    if (marker == 0xC0 || marker == 0xC1 || marker == 0xC2) {
        w->progressive = marker == 0xC2;
        w->fault = ft__jpeg_frame(w, at, count);
    }
    if (marker != 0xDA) return;
    w->fault = ft__jpeg_scan_header(w, at, count);
    if (!w->fault) ft__jpeg_scan(w);
}

static void ft__jpeg_segments(ft__jpeg_walk *w)
{
    while (w->at + 3 < w->count && !w->fault) {
        int marker = w->bytes[w->at + 1];
        size_t start = w->at + 4, length;
        if (w->bytes[w->at] != 0xFF || marker == 0xFF) {
            w->at += 1;
            continue;
        }
        if (marker == 0xD9) break;
        w->at += 2;
        if (marker <= 1 || (marker >= 0xD0 && marker <= 0xD8)) continue;
        length = ft__high_first(w->bytes + w->at, 2);
        if (length < 2 || length > w->count - w->at) {
            w->fault = ft__ends_early;
            break;
        }
        w->at += length;
        ft__jpeg_segment(w, marker, w->bytes + start, length - 2);
    }
}

/* Call it for a file that has passed ft__jpeg_fault. */
static const char *ft__jpeg_damage(const unsigned char *bytes, size_t count)
{
    ft__jpeg_walk w;
    int i;
    memset(&w, 0, sizeof w);
    w.bytes = bytes;
    w.count = count;
    w.at = 2;
    ft__jpeg_segments(&w);
    for (i = 0; i < w.part_count && !w.fault; ++i)
        if (!w.parts[i].seen) w.fault = "damaged: one of its colours is missing";
    for (i = 0; i < w.part_count; ++i) free(w.parts[i].nonzero);
    return w.fault;
}

/* ---- PNG: how much its data inflates to, and its checksums ----
   stb_image makes room for whatever the data inflates to, which can be a thousand times its size.
   So it is counted first, without being written anywhere. */
/* To the next byte of an IDAT, if there is one. */
static bool ft__png_chunk(ft__inflate *z)
{
    while (!z->left) {
        if (z->count - z->at < 16) return false;
        z->at += 4; /* the checksum */
        if (memcmp(z->bytes + z->at + 4, "IDAT", 4) != 0) return false;
        z->left = ft__high_first(z->bytes + z->at, 4);
        z->at += 8;
        if (z->left > z->count - z->at) return false;
    }
    return true;
}

/* Chunks of stated length, up to IEND. */
static const char *ft__png_fault(const unsigned char *bytes, size_t count)
{
    size_t at = 8;
    bool pixels = false;
    while (count - at >= 12) {
        size_t length = ft__high_first(bytes + at, 4);
        const unsigned char *kind = bytes + at + 4;
        if (length > count - at - 12) break;
        if (!memcmp(kind, "IEND", 4)) return pixels ? NULL : "damaged: it has no pixels";
        if (!memcmp(kind, "IDAT", 4)) pixels = true;
        if (!memcmp(kind, "PLTE", 4) && (length > 768 || length % 3)) return ft__damaged_header;
        at += 12 + length;
    }
    return ft__ends_early;
}

/* The file has passed ft__png_fault. `decoded`: bytes that decoding is known to take. */
static const char *ft__png_damage(const unsigned char *bytes, size_t count, size_t decoded)
{
    size_t at = 8, length;
    ft__inflate z;
    memset(&z, 0, sizeof z);
    z.bytes = bytes;
    z.count = count;
    z.more = ft__png_chunk;
    do {
        const unsigned char *kind = bytes + at + 4;
        length = ft__high_first(bytes + at, 4);
        if (ft__crc(0, kind, length + 4) != ft__high_first(kind + 4 + length, 4))
            return "damaged: a checksum is wrong";
        if (!z.at && !memcmp(kind, "IDAT", 4)) z.at = at - 4;
        at += 12 + length;
    } while (memcmp(bytes + at - length - 8, "IEND", 4) != 0);
    ft__inflate_number(&z, 16); /* zlib's header */
    return ft__inflates_within(&z, (uint64_t)decoded + 65536) ? NULL
        : "damaged: its data inflates to something else than its pixels";
}
#endif
