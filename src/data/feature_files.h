#pragma once
#include "interface/types.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/saving.h"

/* =============================================================================================
   [SECTION] data/feature_files: Files of cached rows
   Slow results for the next run, in the folder ft_desc.cache: rows of numbers under 64-bit keys,
   which are hashes of all that a row was made from. The format is the library's own, in the
   machine's byte order. Every row can be recomputed, so a fault in a file (cut, flipped, of another
   version or network) costs time and a line in the log, and is never an error.
       "ftrows1\0"; 0x01020304 and the numbers in a row, both uint32; kind and a checksum, uint64
       for each row: its key and its checksum, both uint64; its numbers, float32
   ============================================================================================= */
enum { FT__ROWS_HEADER = 32, FT__ROW_HEADER = 16 };

typedef struct ft__row_file {
    ft__context *context;
    char *path;
    void *file;             /* NULL: not open */
    ft__saving saving;      /* of a new file, while it is written */
    uint64_t kind;          /* a hash of the settings that all rows were made with */
    size_t row;             /* numbers in a row */
    uint64_t count;         /* rows */
} ft__row_file;

static void ft__rows_header(const ft__row_file *f, unsigned char to[FT__ROWS_HEADER])
{
    uint32_t order = 0x01020304, row = (uint32_t)f->row;
    uint64_t sum;
    memcpy(to, "ftrows1", 8);
    memcpy(to + 8, &order, 4);
    memcpy(to + 12, &row, 4);
    memcpy(to + 16, &f->kind, 8);
    sum = ft__hash_bytes(1, to, 24);
    memcpy(to + 24, &sum, 8);
}

static uint64_t ft__row_checksum(const ft__row_file *f, uint64_t key, const float *values)
{
    return ft__hash_bytes(f->kind ^ ft__mix(key), values, f->row * sizeof *values);
}

static uint64_t ft__row_bytes(const ft__row_file *f)
{
    return FT__ROW_HEADER + (uint64_t)f->row * sizeof(float);
}

/* Prepares CACHE/NAME-ID.rows for rows of `row` numbers; false with an error without memory. */
static bool ft__rows_make(ft__row_file *f, ft__context *c, const char *name, uint64_t id,
                          uint64_t kind, size_t row)
{
    size_t size = strlen(c->desc.cache) + strlen(name) + 64;
    memset(f, 0, sizeof *f);
    f->context = c;
    f->kind = kind;
    f->row = row;
    f->path = (char *)ft__allocate(c, size, 1);
    if (!ft__ok(c)) return false;
    ft__print(f->path, size, "%s/%s-%016llx.rows", c->desc.cache, name, (unsigned long long)id);
    return row <= UINT32_MAX;
}

static void ft__rows_close(ft__row_file *f)
{
    if (f->saving.file) ft__saving_end(&f->saving, false);
    else if (f->file) f->context->desc.files.close(f->context->desc.files.user, f->file);
    ft__saving_free(&f->saving);
    f->file = NULL;
}

static void ft__rows_free(ft__row_file *f)
{
    if (!f->context) return;
    ft__rows_close(f);
    ft__release(f->context, f->path);
    memset(f, 0, sizeof *f);
}

/* Opens it for reading; returns false if there is none, or if it cannot be trusted. */
static bool ft__rows_open(ft__row_file *f)
{
    const ft_files *files = &f->context->desc.files;
    unsigned char want[FT__ROWS_HEADER], found[FT__ROWS_HEADER];
    int64_t size;
    f->file = files->open(files->user, f->path, false);
    if (!f->file) return false;
    size = files->size(files->user, f->file);
    ft__rows_header(f, want);
    if (size >= FT__ROWS_HEADER
        && files->read(files->user, f->file, 0, found, sizeof found) == sizeof found
        && memcmp(want, found, sizeof want) == 0
        && ((uint64_t)size - FT__ROWS_HEADER) % ft__row_bytes(f) == 0) {
        f->count = ((uint64_t)size - FT__ROWS_HEADER) / ft__row_bytes(f);
        return true;
    }
    ft__log(f->context, "%s: is of another network, other data or other settings, or damaged: it is"
            " computed again", f->path);
    ft__rows_close(f);
    return false;
}

static bool ft__rows_key(const ft__row_file *f, uint64_t at, uint64_t *key)
{
    const ft_files *files = &f->context->desc.files;
    return files->read(files->user, f->file, FT__ROWS_HEADER + at * ft__row_bytes(f), key,
                       sizeof *key) == sizeof *key;
}

/* Reads the numbers of row `at`; false if they are not those that were written under the key. */
static bool ft__rows_read(const ft__row_file *f, uint64_t at, uint64_t key, float *to)
{
    const ft_files *files = &f->context->desc.files;
    uint64_t start = FT__ROWS_HEADER + at * ft__row_bytes(f), head[2];
    size_t bytes = f->row * sizeof *to;
    return at < f->count && files->read(files->user, f->file, start, head, sizeof head)
                            == sizeof head && head[0] == key
        && files->read(files->user, f->file, start + FT__ROW_HEADER, to, bytes) == bytes
        && head[1] == ft__row_checksum(f, key, to);
}

/* Starts a new file; if it cannot, returns false and logs why. */
static bool ft__rows_create(ft__row_file *f)
{
    unsigned char header[FT__ROWS_HEADER];
    f->count = 0;
    f->file = NULL;
    ft__rows_header(f, header);
    if (ft__saving_begin(&f->saving, f->context, f->path)
        && ft__saving_write(&f->saving, header, sizeof header)) {
        f->file = f->saving.file;
        return true;
    }
    ft__log(f->context, "%s: %s: nothing is saved for the next run", f->path,
            f->saving.why ? f->saving.why : "writing failed");
    ft__rows_close(f);
    return false;
}

static bool ft__rows_add(ft__row_file *f, uint64_t key, const float *values)
{
    uint64_t head[2];
    head[0] = key;
    head[1] = ft__row_checksum(f, key, values);
    f->count += 1;
    return ft__saving_write(&f->saving, head, sizeof head)
        && ft__saving_write(&f->saving, values, f->row * sizeof *values);
}

/* Ends a new file and, if all rows were written, replaces the old one with it. */
static bool ft__rows_finish(ft__row_file *f, bool written)
{
    bool placed = ft__saving_end(&f->saving, written);
    if (!placed)
        ft__log(f->context, "%s: %s: nothing is saved for the next run", f->path,
                f->saving.why ? f->saving.why : "not everything could be computed");
    f->file = NULL;
    ft__saving_free(&f->saving);
    return placed;
}

/* ---- Which wanted keys does a file have? A hash table of them; equal keys form a chain ---- */
typedef struct ft__key_table {
    const uint64_t *keys;   /* [count]; 0: not wanted */
    int *first;             /* [mask + 1], the index of a key plus one */
    int *next;              /* [count], the next index with the same key; -1: none */
    size_t mask;
} ft__key_table;

static void ft__key_table_free(ft__context *c, ft__key_table *table)
{
    ft__release(c, table->next);
    ft__release(c, table->first);
    memset(table, 0, sizeof *table);
}

static size_t ft__key_place(const ft__key_table *table, uint64_t key)
{
    size_t at = (size_t)ft__mix(key) & table->mask;
    while (table->first[at] && table->keys[table->first[at] - 1] != key)
        at = (at + 1) & table->mask;
    return at;
}

static bool ft__key_table_make(ft__context *c, ft__key_table *table, const uint64_t *keys,
                               int count)
{
    size_t size = 16;
    int i;
    memset(table, 0, sizeof *table);
    while (size < 2 * (size_t)count) size *= 2;
    table->keys = keys;
    table->mask = size - 1;
    table->first = (int *)ft__allocate(c, size, sizeof(int));
    table->next = (int *)ft__allocate(c, (size_t)count + 1, sizeof(int));
    for (i = 0; ft__ok(c) && i < count; ++i) {
        size_t at;
        if (!keys[i]) continue;
        at = ft__key_place(table, keys[i]);
        table->next[i] = table->first[at] - 1;
        table->first[at] = i + 1;
    }
    return ft__ok(c);
}

/* Returns the first index with this key, or -1 if it is not wanted. */
static int ft__key_find(const ft__key_table *table, uint64_t key)
{
    return key ? table->first[ft__key_place(table, key)] - 1 : -1;
}
