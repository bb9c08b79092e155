#pragma once
#include "interface/types.h"
#include "data/resize.h"

/* =============================================================================================
   [SECTION] data/image_headers: Image headers
   What a picture file says before its pixels: format, sides, orientation, and how much memory
   decoding needs. All of it is checked before anything is allocated for the pixels.
   ============================================================================================= */
static const char ft__odd_sides[] = "its width or height is not supported";

#ifdef STBI_VERSION
static const char ft__ends_early[] = "the file ends before the picture does";
static const char ft__damaged_header[] = "damaged header";
static const char ft__too_few_bytes[] = "damaged: too few bytes for so many pixels";
static const char ft__grey_16[] = "16-bit grey is not supported: save it with 8 bits per sample";

enum { FT__NO_TRANSFORM = -1, FT__START_BYTES = 1024 };

/* The header's contents. `data` is where the pixels of a BMP or PNM begin, or a JPEG's first scan:
   if stb_image needs an Adobe marker for the colours, one with `transform` is inserted there. */
typedef struct ft__image_header {
    char format;            /* J(PEG), (P)NG, B(MP), G(IF), or N: binary PPM and PGM */
    int width, height;      /* as stored */
    int orientation;        /* EXIF's: 1 is upright, 5 to 8 swap the sides */
    int transform;
    bool progressive;
    size_t data;
    size_t memory;          /* maximum bytes that decoding allocates */
    uint32_t bits, masks[3], colours, palette, palette_entry; /* BMP */
    bool top_down;
    uint32_t largest;       /* maximum sample of a PNM */
} ft__image_header;

/* A file in memory, or one from which only the requested bytes are read. */
typedef struct ft__bytes {
    const unsigned char *memory; /* NULL: read from the file */
    uint64_t count;
    const ft_files *files;
    void *file;
} ft__bytes;

static bool ft__bytes_get(const ft__bytes *from, uint64_t offset, unsigned char *to, size_t count)
{
    if (offset > from->count || count > from->count - offset) return false;
    if (!from->memory)
        return from->files->read(from->files->user, from->file, offset, to, count) == count;
    memcpy(to, from->memory + offset, count);
    return true;
}

static uint32_t ft__low_first(const unsigned char *bytes, int count)
{
    uint32_t number = 0;
    while (count-- > 0) number = number << 8 | bytes[count];
    return number;
}

static uint32_t ft__high_first(const unsigned char *bytes, int count)
{
    uint32_t number = 0;
    while (count-- > 0) number = number << 8 | *bytes++;
    return number;
}

static bool ft__starts_with(const unsigned char *bytes, size_t count, const char *start,
                            size_t length)
{
    return count >= length && memcmp(bytes, start, length) == 0;
}

/* ---- EXIF: a TIFF directory, of which only the orientation matters ---- */
static int ft__exif_orientation(const ft__bytes *from, uint64_t at, uint64_t count)
{
    unsigned char entry[12];
    uint32_t (*number)(const unsigned char *bytes, int count);
    uint32_t entries, i, offset;
    if (count < 14 || !ft__bytes_get(from, at, entry, 8)) return 1;
    if (!memcmp(entry, "II*\0", 4)) number = ft__low_first;
    else if (!memcmp(entry, "MM\0*", 4)) number = ft__high_first;
    else return 1;
    offset = number(entry + 4, 4);
    if (offset > count - 2 || !ft__bytes_get(from, at + offset, entry, 2)) return 1;
    entries = number(entry, 2);
    for (i = 0; i < entries && 12 * (uint64_t)(i + 1) + 2 <= count - offset; ++i) {
        if (!ft__bytes_get(from, at + offset + 2 + 12 * (uint64_t)i, entry, 12)) return 1;
        if (number(entry, 2) != 0x0112) continue;
        offset = number(entry + 2, 2) == 3 ? number(entry + 8, 2) : 1; /* 3: a 16-bit number */
        return offset >= 1 && offset <= 8 ? (int)offset : 1;
    }
    return 1;
}

/* ---- JPEG ---- */
typedef struct ft__jpeg_marks {
    bool jfif, adobe;
    int transform;          /* the Adobe marker's */
    int components;
    unsigned char ids[4];
} ft__jpeg_marks;

/* Applies libjpeg's rules for the components' colours if stb_image's differ; FT__NO_TRANSFORM: they
   do not. Four components are CMYK without an Adobe marker, and YCCK with any transform but 0;
   stb_image handles them only with the marker, and with 0 or 2. */
static const char *ft__jpeg_colours(const ft__jpeg_marks *marks, ft__image_header *h)
{
    bool named_rgb = marks->components == 3 && !memcmp(marks->ids, "RGB", 3);
    if (marks->components == 4 && (!marks->adobe || (marks->transform != 0
                                                     && marks->transform != 2)))
        h->transform = marks->adobe ? 2 : 0;
    if (named_rgb && (marks->jfif || (marks->adobe && marks->transform != 0)))
        return "its colours are named R, G and B, but a marker says that they are others";
    if (marks->components != 1 && marks->components < 3)
        return "a JPEG with two components is not supported";
    return NULL;
}

static void ft__jpeg_application(const ft__bytes *from, int marker, uint64_t at, size_t length,
                                 ft__jpeg_marks *marks, ft__image_header *h)
{
    unsigned char start[12];
    size_t count = length < sizeof start ? length : sizeof start;
    if (!ft__bytes_get(from, at, start, count)) return;
    if (marker == 0xE0 && length >= 12 && !memcmp(start, "JFIF", 5)) marks->jfif = true;
    if (marker == 0xE1 && length > 6 && !memcmp(start, "Exif\0\0", 6))
        h->orientation = ft__exif_orientation(from, at + 6, length - 6);
    if (marker == 0xEE && length >= 12 && !memcmp(start, "Adobe", 5)) {
        marks->adobe = true;
        marks->transform = start[11];
    }
}

/* Reads up to the first scan. */
static const char *ft__jpeg_header(const ft__bytes *from, ft__image_header *h)
{
    ft__jpeg_marks marks;
    unsigned char b[24];
    uint64_t at = 2;
    memset(&marks, 0, sizeof marks);
    while (ft__bytes_get(from, at, b, 4)) {
        size_t length = ft__high_first(b + 2, 2);
        int marker = b[1];
        if (b[0] != 0xFF || marker == 0xFF || marker <= 1 || (marker >= 0xD0 && marker <= 0xD8)) {
            at += b[0] != 0xFF || marker == 0xFF ? 1 : 2;
            continue;
        }
        if (length < 2) return "damaged: a segment is too short";
        if (marker == 0xDA) break;
        if (marker >= 0xE0) ft__jpeg_application(from, marker, at + 4, length - 2, &marks, h);
        if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8
            && marker != 0xCC) {
            int i;
            if (length < 11 || length > 22 || !ft__bytes_get(from, at + 4, b, length - 2)
                || length != 8 + 3 * (size_t)b[5]) return ft__damaged_header;
            h->progressive = marker == 0xC2;
            h->height = (int)ft__high_first(b + 1, 2);
            h->width = (int)ft__high_first(b + 3, 2);
            marks.components = b[5];
            for (i = 0; i < b[5] && i < 4; ++i) marks.ids[i] = b[6 + 3 * i];
        }
        at += 2 + length;
    }
    h->data = (size_t)at;
    if (!ft__bytes_get(from, at, b, 2) || !marks.components) return ft__ends_early;
    /* Each 8 x 8 pixels take at least one bit. */
    if ((uint64_t)h->width * (uint64_t)h->height / 512 > from->count) return ft__too_few_bytes;
    h->memory = (size_t)h->width * (size_t)h->height
                * (3 + (h->progressive ? 3 : 1) * (size_t)marks.components);
    return ft__jpeg_colours(&marks, h);
}

/* ---- PNG: chunks up to the first one with pixels ---- */
static const char *ft__png_header(const ft__bytes *from, ft__image_header *h)
{
    static const int samples[7] = {1, 0, 3, 1, 2, 0, 4}; /* by colour type */
    unsigned char b[33];
    uint64_t at = 33, row, raw;
    if (!ft__bytes_get(from, 0, b, 33)) return ft__ends_early;
    if (ft__high_first(b + 8, 4) != 13 || memcmp(b + 12, "IHDR", 4) != 0 || b[16] & 0x80
        || b[20] & 0x80 || b[25] > 6 || !samples[b[25]] || b[24] > 16) return ft__damaged_header;
    h->width = (int)ft__high_first(b + 16, 4);
    h->height = (int)ft__high_first(b + 20, 4);
    if (b[25] == 0 && b[24] == 16) return ft__grey_16; /* Pillow clips it to white */
    row = ((uint64_t)h->width * (uint64_t)samples[b[25]] * b[24] + 7) / 8 + 1;
    if (h->height > 0 && row > UINT64_MAX / 8 / (uint64_t)h->height) return ft__odd_sides;
    raw = row * (uint64_t)h->height;
    if (raw / 1032 > from->count) return ft__too_few_bytes; /* deflate's best ratio */
    h->memory = (size_t)(raw + (b[24] == 16 ? 8u : 4u) * (uint64_t)h->width
                         * (uint64_t)h->height + 2 * from->count);
    while (ft__bytes_get(from, at, b, 8) && memcmp(b + 4, "IDAT", 4) != 0) {
        uint64_t length = ft__high_first(b, 4);
        if (!memcmp(b + 4, "eXIf", 4))
            h->orientation = ft__exif_orientation(from, at + 8, length);
        at += 12 + length;
    }
    return NULL;
}

/* ---- BMP: the layouts that Pillow reads, without run lengths ---- */
static const char *ft__bmp_colours(const ft__bytes *from, const unsigned char *b,
                                   uint32_t compression, uint32_t used, ft__image_header *h)
{
    static const uint32_t rgb[3] = {0xFF0000, 0xFF00, 0xFF}, rgb555[3] = {0x7C00, 0x3E0, 0x1F};
    uint32_t size = ft__low_first(b + 14, 4);
    int i;
    memcpy(h->masks, h->bits == 16 ? rgb555 : rgb, sizeof rgb);
    h->palette = 14 + size;
    h->colours = used ? used : h->bits <= 8 ? (uint32_t)1 << h->bits : 0;
    if (compression == 1 || compression == 2) return "a compressed BMP is not supported";
    if (compression != 0 && compression != 3) return ft__damaged_header;
    if (compression == 3) {
        if (h->bits < 16) return ft__damaged_header;
        for (i = 0; i < 3; ++i) h->masks[i] = ft__low_first(b + 54 + 4 * i, 4);
        if (h->bits == 32 && !h->masks[0] && !h->masks[1] && !h->masks[2])
            memcpy(h->masks, rgb, sizeof rgb);
    }
    if (h->bits > 8) return NULL;
    if (h->colours > 256) return ft__damaged_header;
    if (!h->data) h->data = h->palette + (size_t)h->palette_entry * h->colours;
    if (h->palette + (size_t)h->palette_entry * h->colours > from->count) return ft__ends_early;
    if (h->data == h->palette) h->data += (size_t)h->palette_entry * h->colours;
    return NULL;
}

static const char *ft__bmp_header(const ft__bytes *from, const unsigned char *b, size_t count,
                                  ft__image_header *h)
{
    uint32_t size, width, height, compression = 0, used = 0;
    const char *fault;
    uint64_t row;
    if (count < 26) return "the file ends inside its header";
    size = ft__low_first(b + 14, 4);
    if (size != 12 && size != 40 && size != 52 && size != 56 && size != 64 && size != 108
        && size != 124) return ft__damaged_header;
    if (count < 14 + size || (size > 12 && count < 66)) return "the file ends inside its header";
    width = ft__low_first(b + 18, size == 12 ? 2 : 4);
    height = ft__low_first(b + (size == 12 ? 20 : 22), size == 12 ? 2 : 4);
    h->bits = ft__low_first(b + (size == 12 ? 24 : 28), 2);
    h->palette_entry = size == 12 ? 3 : 4;
    if (size > 12) {
        compression = ft__low_first(b + 30, 4);
        used = ft__low_first(b + 46, 4);
        h->top_down = height >> 31;
        if (h->top_down) height = 0 - height;
    }
    if (width > INT32_MAX || height > INT32_MAX || (h->bits != 1 && h->bits != 4 && h->bits != 8
        && h->bits != 16 && h->bits != 24 && h->bits != 32)) return ft__damaged_header;
    h->width = (int)width;
    h->height = (int)height;
    h->data = ft__low_first(b + 10, 4);
    fault = ft__bmp_colours(from, b, compression, used, h);
    if (fault) return fault;
    if (!h->data) h->data = 14 + (size_t)size + (compression == 3 && size == 40 ? 12 : 0);
    row = ((uint64_t)width * h->bits + 31) / 32 * 4;
    if (h->data > from->count) return ft__ends_early;
    if (row && (from->count - h->data) / row < height) return ft__ends_early;
    h->memory = 3 * (size_t)width * (size_t)height;
    return NULL;
}

/* ---- P5 or P6, width, height, largest value, one space, samples; # starts a comment ---- */
static const char *ft__pnm_header(const ft__bytes *from, const unsigned char *b, size_t count,
                                  ft__image_header *h)
{
    uint64_t number[3] = {0, 0, 0}, need;
    size_t at = 2;
    int i;
    for (i = 0; i < 3; ++i) {
        while (at < count && (b[at] <= ' ' || b[at] == '#'))
            if (b[at++] == '#')
                while (at < count && b[at] != '\n' && b[at] != '\r') ++at;
        if (at >= count || b[at] < '0' || b[at] > '9') return ft__damaged_header;
        while (at < count && b[at] >= '0' && b[at] <= '9' && number[i] < INT32_MAX)
            number[i] = number[i] * 10 + (uint64_t)(b[at++] - '0');
    }
    if (number[0] - 1 >= FT__MOST_PIXELS || number[1] - 1 >= FT__MOST_PIXELS
        || number[0] * number[1] > FT__MOST_PIXELS) return ft__odd_sides;
    if (at >= count || b[at] > ' ' || number[2] - 1 >= 65535) return ft__damaged_header;
    if (number[2] > 255) return "more than 8 bits per sample are not supported";
    h->width = (int)number[0];
    h->height = (int)number[1];
    h->largest = (uint32_t)number[2];
    h->colours = b[1] == '6' ? 3 : 1;
    h->data = at + 1;
    need = number[0] * number[1] * h->colours;
    h->memory = 3 * (size_t)(number[0] * number[1]);
    return from->count < h->data + need ? ft__ends_early : NULL;
}

static const char *ft__gif_header(const ft__bytes *from, const unsigned char *b, size_t count,
                                  ft__image_header *h)
{
    if (count < 13) return ft__ends_early;
    h->width = (int)ft__low_first(b + 6, 2);
    h->height = (int)ft__low_first(b + 8, 2);
    /* A code of 12 bits gives at most 4096 pixels; pixels outside the frame cost nothing. */
    if ((uint64_t)h->width * (uint64_t)h->height / 4096 > from->count) return ft__too_few_bytes;
    h->memory = 3 * (size_t)h->width * (size_t)h->height;
    return NULL;
}

/* Only formats named here are read. */
static char ft__image_format(const unsigned char *b, size_t count)
{
    if (ft__starts_with(b, count, "\xFF\xD8\xFF", 3)) return 'J';
    if (ft__starts_with(b, count, "\x89PNG\r\n\x1A\n", 8)) return 'P';
    if (ft__starts_with(b, count, "BM", 2)) return 'B';
    if (ft__starts_with(b, count, "GIF8", 4)) return 'G';
    if (ft__starts_with(b, count, "P5", 2) || ft__starts_with(b, count, "P6", 2)) return 'N';
    return 0;
}

/* Returns NULL, or why the file cannot be read; the header must not be used then. */
static const char *ft__image_header_read(const ft__bytes *from, ft__image_header *h)
{
    unsigned char start[FT__START_BYTES];
    size_t count = from->count < sizeof start ? (size_t)from->count : sizeof start;
    const char *fault = NULL;
    memset(h, 0, sizeof *h);
    h->orientation = 1;
    h->transform = FT__NO_TRANSFORM;
    if (from->count == 0) return "the file is empty";
    if (from->count > FT__MOST_FILE_BYTES) return "the file is too large";
    if (!ft__bytes_get(from, 0, start, count)) return "reading it failed";
    h->format = ft__image_format(start, count);
    if (h->format == 'J') fault = ft__jpeg_header(from, h);
    else if (h->format == 'P') fault = ft__png_header(from, h);
    else if (h->format == 'B') fault = ft__bmp_header(from, start, count, h);
    else if (h->format == 'G') fault = ft__gif_header(from, start, count, h);
    else if (h->format == 'N') fault = ft__pnm_header(from, start, count, h);
    else return "not a JPEG, PNG, BMP, GIF, or binary PPM or PGM";
    if (fault) return fault;
    if (h->width < 1 || h->height < 1
        || (uint64_t)h->width * (uint64_t)h->height > FT__MOST_PIXELS) return ft__odd_sides;
    if (h->orientation > 1) h->memory += 3 * (size_t)h->width * (size_t)h->height;
    return NULL;
}
#endif
