#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/files.h"
#include "data/preprocessing.h"
#include "data/image_headers.h"
#include "data/image_rows.h"
#include "data/image_damage.h"

/* =============================================================================================
   [SECTION] data/image_files: Image files
   stb_image decodes JPEG and PNG, data/image_rows the rest. Samples are those of Pillow's
   convert("RGB"), for JPEG up to rounding; files that would differ are refused. EXIF's orientation
   is applied, as in every viewer.
   The functions may run on any thread. Like stb_image they allocate with malloc, as much as the
   header requires, and only after the header was found plausible.
   ============================================================================================= */
typedef struct ft__picture {
    uint8_t *pixels;  /* ft__picture_free */
    int width, height, channels;
    bool by_stb;      /* stb_image's memory, not malloc's */
} ft__picture;

/* What the header tells of a file before its pixels are decoded. */
typedef struct ft__picture_facts {
    int width, height; /* of the upright picture */
    bool turned;       /* stored rotated or mirrored */
    uint64_t bytes;    /* of the file */
    size_t memory;     /* that decoding allocates */
} ft__picture_facts;

#ifdef STBI_VERSION
static const char *ft__stb_reason(void)
{
    const char *reason = stbi_failure_reason(); /* a literal of stb_image */
    return reason && *reason ? reason : "stb_image cannot read it";
}

static void ft__picture_free(ft__picture *picture)
{
    if (picture->by_stb && picture->pixels) stbi_image_free(picture->pixels);
    else free(picture->pixels);
    memset(picture, 0, sizeof *picture);
}

/* ---- A file with bytes inserted, for stb_image ---- */
typedef struct ft__spliced {
    const unsigned char *part[5];
    size_t count[5];
    int now, parts;
    size_t at;
} ft__spliced;

static int ft__spliced_read(void *user, char *to, int count)
{
    ft__spliced *s = (ft__spliced *)user;
    size_t done = 0;
    while (s->now < s->parts && done < (size_t)count) {
        size_t left = s->count[s->now] - s->at, some = (size_t)count - done;
        if (some > left) some = left;
        if (some) memcpy(to + done, s->part[s->now] + s->at, some);
        done += some;
        s->at += some;
        if (s->at < s->count[s->now]) break;
        s->now += 1;
        s->at = 0;
    }
    return (int)done;
}

static void ft__spliced_skip(void *user, int count)
{
    ft__spliced *s = (ft__spliced *)user;
    while (count < 0) { /* stb_image returns bytes that it read ahead */
        size_t back = (size_t)-(int64_t)count;
        if (back <= s->at) {
            s->at -= back;
            return;
        }
        if (!s->now) return;
        count += (int)s->at;
        s->at = s->count[--s->now];
    }
    while (count > 0 && s->now < s->parts) {
        size_t left = s->count[s->now] - s->at;
        if ((size_t)count < left) {
            s->at += (size_t)count;
            return;
        }
        count -= (int)left;
        s->now += 1;
        s->at = 0;
    }
}

static int ft__spliced_end(void *user)
{
    const ft__spliced *s = (const ft__spliced *)user;
    return s->now >= s->parts;
}

static void ft__spliced_add(ft__spliced *s, const unsigned char *bytes, size_t count)
{
    if (!count) return;
    s->part[s->parts] = bytes;
    s->count[s->parts++] = count;
}

/* Finds a palette with fewer colours than the pixels' bits allow: stb_image leaves the other
   colours undefined, in Pillow they are black. 0: no such palette. */
static size_t ft__short_palette(const unsigned char *bytes, size_t count)
{
    size_t at = 8;
    if (bytes[25] != 3) return 0;
    while (count - at >= 12 && memcmp(bytes + at + 4, "IDAT", 4) != 0) {
        size_t length = ft__high_first(bytes + at, 4);
        if (length > count - at - 12) return 0;
        if (!memcmp(bytes + at + 4, "PLTE", 4))
            return length < (size_t)3 << bytes[24] ? at : 0;
        at += 12 + length;
    }
    return 0;
}

static void ft__splice_file(ft__spliced *s, const unsigned char *bytes, size_t count,
                            const ft__image_header *h, unsigned char adobe[16])
{
    static const unsigned char long_palette[8] = {0, 0, 3, 0, 'P', 'L', 'T', 'E'};
    static const unsigned char black[768] = {0};
    size_t palette = h->format == 'P' ? ft__short_palette(bytes, count) : 0, length;
    memset(s, 0, sizeof *s);
    if (h->transform != FT__NO_TRANSFORM) {
        memcpy(adobe, "\xFF\xEE\0\x0E" "Adobe\0\x64\0\0\0\0\0", 16);
        adobe[15] = (unsigned char)h->transform;
        ft__spliced_add(s, bytes, h->data);
        ft__spliced_add(s, adobe, 16);
        ft__spliced_add(s, bytes + h->data, count - h->data);
    } else if (palette) {
        length = ft__high_first(bytes + palette, 4);
        ft__spliced_add(s, bytes, palette);
        ft__spliced_add(s, long_palette, sizeof long_palette);
        ft__spliced_add(s, bytes + palette + 8, length);
        ft__spliced_add(s, black, sizeof black - length);
        ft__spliced_add(s, bytes + palette + 8 + length, count - palette - 8 - length);
    }
}

static const char *ft__decode_by_stb(const unsigned char *bytes, size_t count,
                                     const ft__image_header *h, ft__picture *picture)
{
    static const stbi_io_callbacks callbacks = {ft__spliced_read, ft__spliced_skip,
                                                ft__spliced_end};
    unsigned char adobe[16];
    int width = 0, height = 0, had;
    ft__spliced s;
    ft__splice_file(&s, bytes, count, h, adobe);
    if (s.parts) picture->pixels = stbi_load_from_callbacks(&callbacks, &s, &width, &height, &had,
                                                            3);
    else picture->pixels = stbi_load_from_memory(bytes, (int)count, &width, &height, &had, 3);
    picture->by_stb = true;
    if (!picture->pixels) return ft__stb_reason();
    if (width != h->width || height != h->height)
        return "damaged: its width and height are given twice, and differ";
    return NULL;
}

/* ---- Upright ---- */

/* The index at which the upright picture's pixel (x, y) is stored, by EXIF's orientation. */
static size_t ft__stored_at(const ft__image_header *h, int x, int y)
{
    int swap, right = h->width - 1, bottom = h->height - 1;
    if (h->orientation > 4) {
        swap = x;
        x = y;
        y = swap;
    }
    if (h->orientation == 2 || h->orientation == 3 || h->orientation > 6) x = right - x;
    if (h->orientation == 3 || h->orientation == 4 || h->orientation == 6 || h->orientation == 7)
        y = bottom - y;
    return (size_t)y * (size_t)h->width + (size_t)x;
}

static const char *ft__make_upright(const ft__image_header *h, ft__picture *picture)
{
    ft__picture upright;
    uint8_t *to;
    int x, y;
    upright.width = h->orientation > 4 ? h->height : h->width;
    upright.height = h->orientation > 4 ? h->width : h->height;
    upright.channels = 3;
    upright.by_stb = false;
    upright.pixels = to = (uint8_t *)malloc(3 * (size_t)h->width * (size_t)h->height);
    if (!to) return "not enough memory for its pixels";
    for (y = 0; y < upright.height; ++y)
        for (x = 0; x < upright.width; ++x, to += 3)
            memcpy(to, picture->pixels + 3 * ft__stored_at(h, x, y), 3);
    ft__picture_free(picture);
    *picture = upright;
    return NULL;
}

/* ---- Decoding ---- */

/* Are the bytes complete? Only a quick check; our own decoders check all of it themselves. */
static const char *ft__picture_fault(const unsigned char *bytes, size_t count)
{
    char format = ft__image_format(bytes, count);
    if (format == 'J') return ft__jpeg_fault(bytes, count);
    return format == 'P' ? ft__png_fault(bytes, count) : NULL;
}

/* The same check code by code. */
static const char *ft__picture_damage(const unsigned char *bytes, size_t count,
                                      const ft__image_header *h)
{
    if (h->format == 'J') return ft__jpeg_damage(bytes, count);
    return h->format == 'P' ? ft__png_damage(bytes, count, h->memory) : NULL;
}

/* Reads the header of a picture to decode; empties `picture`. Returns NULL, or why it cannot. */
static const char *ft__decode_header(const unsigned char *bytes, size_t count, ft__image_header *h,
                                     ft__picture *picture)
{
    ft__bytes from = {bytes, count, NULL, NULL};
    const char *fault = ft__image_header_read(&from, h);
    memset(picture, 0, sizeof *picture);
    return fault ? fault : ft__picture_fault(bytes, count);
}

/* Decodes to an upright picture of `channels` (1 or 3). Returns NULL, or why it cannot. */
static const char *ft__decode_body(const unsigned char *bytes, size_t count, int channels,
                                   const ft__image_header *h, ft__picture *picture)
{
    const char *fault = NULL;
    picture->width = h->width;
    picture->height = h->height;
    picture->channels = 3;
    if (h->format == 'J' || h->format == 'P') fault = ft__decode_by_stb(bytes, count, h, picture);
    else {
        picture->pixels = (uint8_t *)malloc(3 * (size_t)h->width * (size_t)h->height);
        if (!picture->pixels) return "not enough memory for its pixels";
        if (h->format == 'B') fault = ft__decode_bmp(bytes, h, picture->pixels);
        if (h->format == 'G') fault = ft__decode_gif(bytes, count, h, picture->pixels);
        if (h->format == 'N') fault = ft__decode_pnm(bytes, h, picture->pixels);
    }
    if (!fault && h->orientation > 1) fault = ft__make_upright(h, picture);
    if (fault) {
        ft__picture_free(picture);
        return fault;
    }
    if (channels != 3) /* stb_image's grey differs from Pillow's */
        ft__convert_channels(picture->pixels, 3, (size_t)h->width * (size_t)h->height,
                             picture->pixels, channels);
    picture->channels = channels;
    return NULL;
}

/* Decodes bytes that were decoded before. */
static const char *ft__decode_again(const unsigned char *bytes, size_t count, int channels,
                                    ft__picture *picture)
{
    ft__image_header h;
    const char *fault = ft__decode_header(bytes, count, &h, picture);
    return fault ? fault : ft__decode_body(bytes, count, channels, &h, picture);
}

/* The same for new bytes: also looks for damage that stb_image would not notice. */
static const char *ft__decode(const unsigned char *bytes, size_t count, int channels,
                              ft__picture *picture)
{
    ft__image_header h;
    const char *fault = ft__decode_header(bytes, count, &h, picture);
    if (!fault) fault = ft__picture_damage(bytes, count, &h);
    return fault ? fault : ft__decode_body(bytes, count, channels, &h, picture);
}

/* Returns NULL, or why the file is not read. */
static const char *ft__header_facts(const ft__bytes *from, ft__picture_facts *facts)
{
    ft__image_header h;
    const char *fault = ft__image_header_read(from, &h);
    facts->bytes = from->count;
    facts->width = h.orientation > 4 ? h.height : h.width;
    facts->height = h.orientation > 4 ? h.width : h.height;
    facts->turned = h.orientation > 1;
    facts->memory = h.memory;
    return fault;
}

static const char *ft__picture_info(const ft_files *files, const char *path,
                                    ft__picture_facts *facts)
{
    const char *fault = NULL;
    ft__bytes from;
    int64_t size;
    memset(facts, 0, sizeof *facts);
    memset(&from, 0, sizeof from);
    from.files = files;
    from.file = files->open(files->user, path, false);
    if (!from.file) return ft__not_opened(files, path);
    size = files->size(files->user, from.file);
    from.count = size < 0 ? 0 : (uint64_t)size;
    if (size < 0) fault = "not a regular file";
    else fault = ft__header_facts(&from, facts);
    files->close(files->user, from.file);
    return fault;
}

static const char *ft__memory_facts(const void *bytes, size_t count, ft__picture_facts *facts)
{
    ft__bytes from = {(const unsigned char *)bytes, count, NULL, NULL};
    return ft__header_facts(&from, facts);
}

static const char *ft__decode_missing(void) { return NULL; }
#else
static const char *ft__decode_missing(void)
{
    return "this program cannot read picture files: #include <stb/stb_image.h> before the"
           " implementation of finetune.h";
}
static void ft__picture_free(ft__picture *picture) { memset(picture, 0, sizeof *picture); }
static const char *ft__decode_again(const unsigned char *bytes, size_t count, int channels,
                                    ft__picture *picture)
{
    (void)bytes, (void)count, (void)channels;
    memset(picture, 0, sizeof *picture);
    return ft__decode_missing();
}
static const char *ft__decode(const unsigned char *bytes, size_t count, int channels,
                              ft__picture *picture)
{
    return ft__decode_again(bytes, count, channels, picture);
}
static const char *ft__picture_info(const ft_files *files, const char *path,
                                    ft__picture_facts *facts)
{
    (void)files, (void)path;
    memset(facts, 0, sizeof *facts);
    return ft__decode_missing();
}
static const char *ft__memory_facts(const void *bytes, size_t count, ft__picture_facts *facts)
{
    (void)bytes, (void)count;
    memset(facts, 0, sizeof *facts);
    return ft__decode_missing();
}
#endif

/* ---- For prediction, on the model's own thread ---- */

/* `what` names the picture in messages. */
static bool ft__pixels_to_input(ft__context *c, const ft_preprocessing *p, const uint8_t *pixels,
                                int width, int height, int channels, const char *what, float *to)
{
    const char *fault = ft__preprocessing_fault(p);
    size_t bytes;
    void *workspace;
    if (!ft__ok(c)) return false;
    if (fault) {
        ft__fail(c, FT_INVALID, "the model's preprocessing: %s (it is %d x %d x %d, resize %d)",
                 fault, p->channels, p->height, p->width, p->resize);
        return false;
    }
    bytes = width > 0 && height > 0 ? ft__pixels_workspace(p, width, height) : 0;
    if (!bytes || channels < 1 || channels > 4 || !pixels) {
        ft__fail(c, FT_INVALID, "%s: %d x %d pixels of %d channels are not supported", what, width,
                 height, channels);
        return false;
    }
    workspace = ft__allocate(c, bytes, 1);
    if (!workspace) return false;
    ft__pixels_to_tensor(p, pixels, width, height, channels, workspace, to);
    ft__release(c, workspace);
    return true;
}

static bool ft__encoded_to_input(ft__context *c, const ft_preprocessing *p, const void *bytes,
                                 size_t count, const char *what, float *to)
{
    ft__picture_facts facts;
    ft__picture picture;
    int channels = ft__preprocessing_fault(p) ? 3 : p->channels;
    const char *fault;
    bool done;
    if (!ft__ok(c)) return false;
    if (ft__decode_missing()) {
        ft__fail(c, FT_UNSUPPORTED, "%s: %s", what, ft__decode_missing());
        return false;
    }
    fault = bytes ? ft__memory_facts(bytes, count, &facts) : "the file is empty";
    if (!fault && facts.memory > ft__room(c)) {
        ft__fail(c, FT_MEMORY, "%s: decoding %d x %d pixels needs %zu bytes, but the memory budget"
                 " of %zu leaves only %zu", what, facts.width, facts.height, facts.memory,
                 c->desc.memory_budget, ft__room(c));
        return false;
    }
    if (!fault) fault = ft__decode((const unsigned char *)bytes, count, channels, &picture);
    if (fault) {
        ft__fail(c, FT_FORMAT, "%s: cannot be read as a picture: %s", what, fault);
        return false;
    }
    done = ft__pixels_to_input(c, p, picture.pixels, picture.width, picture.height,
                               picture.channels, what, to);
    ft__picture_free(&picture);
    return done;
}
