#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/inflate.h"
#include "basics/saving.h"
#include "basics/sorting.h"
#include "formats/readers.h"

/* =============================================================================================
   [SECTION] formats/zip: Zip archives
   An archive's directory, at its end, says where each entry's bytes are, stored or deflated; with
   numbers of 64 bits (zip64) where 32 do not suffice. Every number is checked before it is used.
   ============================================================================================= */
enum ft__zip_method { FT__ZIP_STORED = 0, FT__ZIP_DEFLATED = 8, FT__ZIP_ENCRYPTED = 99 };

typedef struct ft__zip_entry {
    const char *name;       /* as in the archive, or after its own folder: ft__zip_enter */
    size_t length;
    uint64_t offset, packed; /* of its bytes in the file */
    uint64_t size;          /* unpacked */
    uint32_t crc;           /* of the unpacked bytes */
    int method;             /* ft__zip_method, or another */
} ft__zip_entry;

typedef struct ft__zip {
    ft_file *file;
    ft__zip_entry *entries;
    int count;
    int *order;             /* [count]: by name */
} ft__zip;

static ft_status ft__zip_fault(ft_file *file, const char *what, uint64_t offset)
{
    return ft__fail(file->context, FT_FORMAT, "%s: damaged zip archive: %s at offset %llu",
                    file->path, what, (unsigned long long)offset);
}

static uint64_t ft__zip_number(const ft_file *file, uint64_t offset, int bytes)
{
    return ft__little_endian(file->bytes + offset, bytes);
}

static bool ft__zip_has(const ft_file *file, uint64_t offset, uint64_t bytes)
{
    return offset <= file->size && bytes <= file->size - offset;
}

/* Finds where the central directory begins and how many entries it has; takes the 64-bit values if
   the short ones are at their maximum. */
static bool ft__zip_directory(const ft_file *file, uint64_t *begin, uint64_t *count)
{
    uint64_t end = file->size < 22 ? 0 : file->size - 22, back, wide;
    for (back = 0; back <= end && back < 65536; ++back)
        if (ft__zip_number(file, end - back, 4) == 0x06054b50) break;
    if (file->size < 22 || back > end || back == 65536) return false;
    end -= back;
    *count = ft__zip_number(file, end + 10, 2);
    *begin = ft__zip_number(file, end + 16, 4);
    if (end < 20 || ft__zip_number(file, end - 20, 4) != 0x07064b50) return true;
    wide = ft__zip_number(file, end - 12, 8);
    if (!ft__zip_has(file, wide, 56) || ft__zip_number(file, wide, 4) != 0x06064b50) return false;
    *count = ft__zip_number(file, wide + 32, 8);
    *begin = ft__zip_number(file, wide + 48, 8);
    return true;
}

/* Sizes and offset that do not fit into 32 bits are in the extra field 1, in this order. */
static bool ft__zip_far(const ft_file *file, uint64_t at, uint64_t bytes, uint64_t *values[3])
{
    uint64_t end = at + bytes;
    int i;
    while (end - at >= 4) {
        uint64_t kind = ft__zip_number(file, at, 2), size = ft__zip_number(file, at + 2, 2);
        at += 4;
        if (size > end - at) return false;
        for (i = 0; kind == 1 && i < 3; ++i) {
            if (*values[i] != 0xffffffffu) continue;
            if (size < 8) return false;
            *values[i] = ft__zip_number(file, at, 8);
            at += 8;
            size -= 8;
        }
        at += size;
    }
    return true;
}

/* Reads the directory entry at *at and moves *at past it. */
static ft_status ft__zip_read_entry(ft__zip *zip, uint64_t *at)
{
    ft_file *file = zip->file;
    ft__zip_entry *entry = &zip->entries[zip->count];
    uint64_t name, extra, comment, local, *wide[3];
    if (!ft__zip_has(file, *at, 46) || ft__zip_number(file, *at, 4) != 0x02014b50)
        return ft__zip_fault(file, "no directory entry", *at);
    entry->method = (int)ft__zip_number(file, *at + 10, 2);
    if (ft__zip_number(file, *at + 8, 2) & 1) entry->method = FT__ZIP_ENCRYPTED;
    entry->crc = (uint32_t)ft__zip_number(file, *at + 16, 4);
    entry->packed = ft__zip_number(file, *at + 20, 4);
    entry->size = ft__zip_number(file, *at + 24, 4);
    local = ft__zip_number(file, *at + 42, 4);
    name = ft__zip_number(file, *at + 28, 2);
    extra = ft__zip_number(file, *at + 30, 2);
    comment = ft__zip_number(file, *at + 32, 2);
    wide[0] = &entry->size;
    wide[1] = &entry->packed;
    wide[2] = &local;
    if (!ft__zip_has(file, *at + 46, name + extra + comment)
        || !ft__zip_far(file, *at + 46 + name, extra, wide))
        return ft__zip_fault(file, "a directory entry that does not fit", *at);
    if (entry->method == FT__ZIP_STORED) entry->packed = entry->size;
    if (!ft__zip_has(file, local, 30) || ft__zip_number(file, local, 4) != 0x04034b50)
        return ft__zip_fault(file, "no local header", local);
    entry->offset = local + 30 + ft__zip_number(file, local + 26, 2)
        + ft__zip_number(file, local + 28, 2);
    if (!ft__zip_has(file, entry->offset, entry->packed))
        return ft__zip_fault(file, "an entry longer than the file", local);
    entry->name = (const char *)file->bytes + *at + 46;
    entry->length = (size_t)name;
    zip->count += 1;
    *at += 46 + name + extra + comment;
    return FT_OK;
}

/* Compares two texts: < 0, 0 or > 0 if a is before, equal to, or after b. */
static int ft__text_order(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    if (order != 0) return order;
    return a_length < b_length ? -1 : a_length > b_length;
}

static bool ft__zip_less(const void *context, int a, int b)
{
    const ft__zip_entry *entries = (const ft__zip_entry *)context;
    int order = ft__text_order(entries[a].name, entries[a].length, entries[b].name,
                               entries[b].length);
    return order < 0 || (order == 0 && a < b);
}

/* Takes the archive's own folder off the names: all up to their first "/". */
static FT__UNUSED void ft__zip_enter(ft__zip *zip)
{
    int i;
    for (i = 0; i < zip->count; ++i) {
        ft__zip_entry *e = &zip->entries[i];
        const char *slash = (const char *)memchr(e->name, '/', e->length);
        size_t skip = slash ? (size_t)(slash - e->name) + 1 : e->length;
        e->name += skip;
        e->length -= skip;
    }
}

/* For ft__zip_find. */
static FT__UNUSED bool ft__zip_sort(ft__zip *zip)
{
    ft__context *c = zip->file->context;
    if (ft__ok(c)) zip->order = (int *)ft__allocate(c, (size_t)zip->count + 1, sizeof(int));
    if (ft__ok(c)) ft__sort_order(zip->order, zip->count, ft__zip_less, zip->entries);
    return ft__ok(c);
}

/* Returns the first entry that is not before this name; `count` if all are before it. */
static int ft__zip_from(const ft__zip *zip, const char *name, size_t length)
{
    int low = 0, high = zip->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const ft__zip_entry *e = &zip->entries[zip->order[middle]];
        if (ft__text_order(e->name, e->length, name, length) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Finds the entry with this name; NULL: none. */
static FT__UNUSED const ft__zip_entry *ft__zip_find(const ft__zip *zip, const char *name,
                                                    size_t length)
{
    int at = ft__zip_from(zip, name, length);
    const ft__zip_entry *e = at < zip->count ? &zip->entries[zip->order[at]] : NULL;
    return e && ft__text_order(e->name, e->length, name, length) == 0 ? e : NULL;
}

/* Lists the entries, in the order of the directory; an error if a number of it is wrong. */
static FT__UNUSED ft_status ft__zip_open(ft__zip *zip, ft_file *file)
{
    uint64_t at = 0, count = 0, i;
    memset(zip, 0, sizeof *zip);
    zip->file = file;
    if (!ft__zip_directory(file, &at, &count) || count > file->size / 46)
        return ft__zip_fault(file, "no zip directory", file->size);
    zip->entries = (ft__zip_entry *)ft__allocate(file->context, (size_t)count + 1,
                                                 sizeof *zip->entries);
    for (i = 0; ft__ok(file->context) && i < count; ++i) ft__zip_read_entry(zip, &at);
    return file->context->status;
}

static FT__UNUSED void ft__zip_close(ft__zip *zip)
{
    ft__release(zip->file->context, zip->order);
    ft__release(zip->file->context, zip->entries);
}

/* Writes an entry's bytes to `to`, which has room for entry->size of them. Only deflated ones are
   compared with their checksum: stored ones are used where they are, and are not read here. */
static FT__UNUSED ft_status ft__zip_unpack(const ft__zip *zip, const ft__zip_entry *entry,
                                           unsigned char *to)
{
    ft_file *file = zip->file;
    ft__inflate z;
    if (entry->method == FT__ZIP_STORED) {
        if (entry->size > 0) memcpy(to, file->bytes + entry->offset, (size_t)entry->size);
        return FT_OK;
    }
    memset(&z, 0, sizeof z);
    z.bytes = file->bytes;
    z.at = (size_t)entry->offset;
    z.left = (size_t)entry->packed;
    z.to = to;
    if (!ft__inflates_within(&z, entry->size) || z.total != entry->size)
        return ft__zip_fault(file, "an entry that inflates to something else than its size",
                             entry->offset);
    if (ft__crc(0, to, (size_t)entry->size) != entry->crc)
        return ft__zip_fault(file, "an entry with a wrong checksum", entry->offset);
    return FT_OK;
}

/* ---- Writing: stored entries, each with its sizes and place in 64 bits, as Python's zipfile has
   large ones, so that one form serves all. No time is written. ---- */

typedef struct ft__zip_writer {
    ft__saving *file;
    uint64_t at, count;     /* bytes and entries so far */
    ft__text directory, header;
} ft__zip_writer;

static void ft__zip_put(ft__text *to, uint64_t number, int bytes)
{
    char lowest;
    for (; bytes > 0; --bytes, number >>= 8) {
        lowest = (char)(number & 255);
        ft__text_add_bytes(to, &lowest, 1);
    }
}

static FT__UNUSED void ft__zip_start(ft__zip_writer *zip, ft__saving *file)
{
    memset(zip, 0, sizeof *zip);
    zip->file = file;
    zip->directory.context = zip->header.context = file->context;
}

/* What the header of an entry and its line in the directory both say: the version that can read it,
   a name in UTF-8, stored, 1 January 1980, the checksum, and sizes in the extra field. */
static void ft__zip_common(ft__text *to, size_t name, size_t extra, uint32_t crc)
{
    ft__zip_put(to, 45, 2);
    ft__zip_put(to, 0x800, 2);
    ft__zip_put(to, FT__ZIP_STORED, 2);
    ft__zip_put(to, 0x210000, 4);
    ft__zip_put(to, crc, 4);
    ft__zip_put(to, 0xffffffffffffffff, 8);
    ft__zip_put(to, name, 2);
    ft__zip_put(to, extra, 2);
}

/* The extra field 1: the size unpacked and packed. */
static void ft__zip_sizes(ft__text *to, uint64_t size, size_t extra)
{
    ft__zip_put(to, 1, 2);
    ft__zip_put(to, extra - 4, 2);
    ft__zip_put(to, size, 8);
    ft__zip_put(to, size, 8);
}

/* Writes the header of an entry; its bytes must follow, and be added to zip->at. */
static FT__UNUSED void ft__zip_begin(ft__zip_writer *zip, const char *name, const char *end,
                                     uint64_t size, uint32_t crc)
{
    ft__text *d = &zip->directory, *h = &zip->header;
    size_t length = strlen(name) + strlen(end);
    h->count = 0;
    ft__zip_put(h, 0x04034b50, 4);
    ft__zip_common(h, length, 20, crc);
    ft__text_add_bytes(h, name, strlen(name));
    ft__text_add_bytes(h, end, strlen(end));
    ft__zip_sizes(h, size, 20);
    ft__zip_put(d, 0x02014b50, 4);
    ft__zip_put(d, 45, 2);
    ft__zip_common(d, length, 28, crc);
    ft__zip_put(d, 0, 8);
    ft__zip_put(d, 0, 2);
    ft__zip_put(d, 0xffffffff, 4);
    ft__text_add_bytes(d, name, strlen(name));
    ft__text_add_bytes(d, end, strlen(end));
    ft__zip_sizes(d, size, 28);
    ft__zip_put(d, zip->at, 8);
    if (ft__ok(h->context)) ft__saving_write(zip->file, h->letters, h->count);
    zip->at += h->count;
    zip->count += 1;
}

/* Writes the directory and the archive's end. */
static FT__UNUSED void ft__zip_finish(ft__zip_writer *zip)
{
    ft__context *c = zip->file->context;
    ft__text *d = &zip->directory;
    uint64_t size = d->count;
    ft__zip_put(d, 0x06064b50, 4);
    ft__zip_put(d, 44, 8);
    ft__zip_put(d, 45 | 45 << 16, 4);
    ft__zip_put(d, 0, 8);
    ft__zip_put(d, zip->count, 8);
    ft__zip_put(d, zip->count, 8);
    ft__zip_put(d, size, 8);
    ft__zip_put(d, zip->at, 8);
    ft__zip_put(d, 0x07064b50, 4);
    ft__zip_put(d, 0, 4);
    ft__zip_put(d, zip->at + size, 8);
    ft__zip_put(d, 1, 4);
    ft__zip_put(d, 0x06054b50, 4);
    ft__zip_put(d, 0, 4);
    ft__zip_put(d, 0xffffffff, 4);
    ft__zip_put(d, 0xffffffffffffffff, 8);
    ft__zip_put(d, 0, 2);
    if (ft__ok(c)) ft__saving_write(zip->file, d->letters, d->count);
    ft__release(c, d->letters);
    ft__release(c, zip->header.letters);
}
