#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/formatting.h"
#include "platform/utf8.h"

/* =============================================================================================
   [SECTION] platform/context: Checked sizes, allocator, errors
   Every call that can run out of memory or fail on a file goes through an ft__context, which keeps
   the first error. There is no global or static state.
   ============================================================================================= */
#if defined(__GNUC__)
#define FT__UNUSED __attribute__((unused))
#define FT__RESTRICT __restrict__ /* C++ lacks C99's restrict */
#else
#define FT__UNUSED
#define FT__RESTRICT
#endif

#define FT__ALIGNMENT 64 /* bytes: a cache line, and the widest vector */
#define FT__DEVICE_ALIGNMENT 512 /* the most that part of a device's buffer was seen to need */

typedef struct ft__pool ft__pool;

typedef struct ft__context {
    ft_desc desc;       /* with every default filled in */
    ft_status status;   /* sticky: the first error ... */
    char text[1024];    /* ... and its message */
    size_t bytes;       /* allocated now, by this model */
    size_t bytes_peak;
    size_t arena_used;
    int threads;
    int simd;           /* which micro-kernels: see kernels/gemm */
    int precision;      /* of matrix products: see kernels/bf16 */
    ft__pool *pool;     /* NULL: everything runs on the calling thread */
    size_t taken[64][8]; /* pieces taken from each slot's part (basics/threads); each counter has
                            its own cache line */
    const struct ft__backend *backend; /* what runs the operators: see devices/device ... */
    struct ft__device *device; /* ... and what it keeps; NULL: the processor */
    void (*forget)(struct ft__context *c, const void *memory, size_t bytes); /* called on release */
} ft__context;
typedef struct ft__device ft__device;
typedef struct ft__backend ft__backend;

static bool ft__ok(const ft__context *c) { return c->status == FT_OK; }

/* Keeps only the first error: later ones follow from it and would hide the cause. Names in errors
   and in the log come from files: nothing in them may reach a terminal but text. */
static FT__PRINTF(3, 4) ft_status ft__fail(ft__context *c, ft_status status, const char *format,
                                           ...)
{
    char line[1024];
    va_list arguments;
    if (c->status != FT_OK) return c->status;
    c->status = status;
    va_start(arguments, format);
    ft__vprint(line, sizeof line, format, arguments);
    va_end(arguments);
    ft__clean_text(line, true, c->text, sizeof c->text);
    return status;
}

/* Sets FT_INVALID if the caller's pointer is NULL; returns whether there is no error. */
static bool ft__given(ft__context *c, const void *pointer, const char *what)
{
    if (!pointer) ft__fail(c, FT_INVALID, "%s is NULL", what);
    return ft__ok(c);
}

/* A field of an options struct: whether it is set, and whether it has an effect here. A field that
   is set without effect is the caller's mistake, and an error. */
typedef struct ft__field_use {
    const char *field;
    bool is_set, has_effect;
    const char *what_for;
} ft__field_use;

static ft_status ft__check_uses(ft__context *c, const char *call, const ft__field_use *uses,
                                size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i)
        if (uses[i].is_set && !uses[i].has_effect)
            return ft__fail(c, FT_INVALID, "%s: %s has no effect here: it is for %s", call,
                            uses[i].field, uses[i].what_for);
    return c->status;
}

static FT__PRINTF(2, 3) void ft__log(const ft__context *c, const char *format, ...)
{
    char line[1024], clean[1024];
    va_list arguments;
    if (!c->desc.log) return;
    va_start(arguments, format);
    ft__vprint(line, sizeof line, format, arguments);
    va_end(arguments);
    ft__clean_text(line, true, clean, sizeof clean);
    c->desc.log(c->desc.log_user, clean);
}

static bool ft__multiply(size_t a, size_t b, size_t *product)
{
    if (b != 0 && a > SIZE_MAX / b) return false;
    *product = a * b;
    return true;
}

/* Asks Linux for pages of 2 MB inside a large block, where it gives them for the asking: they take
   fewer places in the table of pages that a core looks up. ResNet-18 on one picture ran 1.10 times
   as fast, steps of MobileNet and BERT-mini 1.05 times (medians of 25 pairs, AVX-512). */
static void ft__ask_for_large_pages(unsigned char *block, size_t bytes)
{
#if defined(__linux__) && FINETUNE__POSIX
    const uintptr_t page = (uintptr_t)1 << 21;
    uintptr_t from = ((uintptr_t)block + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)block + bytes) / page * page;
#ifndef MADV_HUGEPAGE /* not declared with -std=c99 */
    extern int madvise(void *, size_t, int);
    enum { MADV_HUGEPAGE = 14 };
#endif
    if (to > from) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)block;
    (void)bytes;
#endif
}

static void *ft__default_allocate(void *user, size_t bytes, size_t alignment)
{
    /* calloc aligns less than requested: the pointer that it returned is stored just below ours. */
    unsigned char *raw, *aligned;
    (void)user;
    if (bytes > SIZE_MAX - alignment - sizeof(void *)) return NULL;
    raw = (unsigned char *)calloc(1, bytes + alignment + sizeof(void *));
    if (!raw) return NULL;
    aligned = raw + sizeof(void *);
    aligned += (alignment - (uintptr_t)aligned % alignment) % alignment;
    memcpy(aligned - sizeof(void *), &raw, sizeof raw);
    ft__ask_for_large_pages(aligned, bytes);
    return aligned;
}

static void ft__default_release(void *user, void *memory, size_t bytes)
{
    void *raw;
    (void)user;
    (void)bytes;
    memcpy(&raw, (unsigned char *)memory - sizeof(void *), sizeof raw);
    free(raw);
}

/* The arena only grows, but can release the latest block: that suits the order in which models are
   built, and needs no free list. */
static void *ft__arena_allocate(ft__context *c, size_t bytes)
{
    unsigned char *base = (unsigned char *)c->desc.arena, *start;
    size_t misaligned = (uintptr_t)(base + c->arena_used) % FT__ALIGNMENT;
    size_t skip = misaligned ? FT__ALIGNMENT - misaligned : 0;
    if (skip > c->desc.arena_bytes - c->arena_used) return NULL;
    if (bytes > c->desc.arena_bytes - c->arena_used - skip) return NULL;
    start = base + c->arena_used + skip;
    c->arena_used += skip + bytes;
    return start;
}

/* Bytes left of the memory budget; 0 if the model alone already exceeds it. */
static size_t ft__room(const ft__context *c)
{
    if (!c->desc.memory_budget) return SIZE_MAX;
    return c->bytes < c->desc.memory_budget ? c->desc.memory_budget - c->bytes : 0;
}

/* Each block starts with its size, so that release needs only the pointer. */
static void *ft__allocate(ft__context *c, size_t count, size_t size)
{
    size_t bytes;
    unsigned char *block = NULL;
    if (!ft__ok(c)) return NULL;
    if (!ft__multiply(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        ft__fail(c, FT_MEMORY, "%zu elements of %zu bytes do not fit into memory", count,
                 size);
        return NULL;
    }
    bytes += FT__ALIGNMENT;
    if (bytes > ft__room(c)) {
        ft__fail(c, FT_MEMORY, "the memory budget of %zu bytes is used up: %zu are in use, %zu more"
                 " are needed", c->desc.memory_budget, c->bytes, bytes);
        return NULL;
    }
    if (c->desc.arena) block = (unsigned char *)ft__arena_allocate(c, bytes);
    else block = (unsigned char *)c->desc.allocator.allocate(c->desc.allocator.user, bytes,
                                                             FT__ALIGNMENT);
    if (!block) {
        ft__fail(c, FT_MEMORY, "no memory for %zu bytes (%zu are in use)", bytes, c->bytes);
        return NULL;
    }
    /* Fresh pages from calloc are already zero, and take no memory until they are used. */
    if (c->desc.arena || c->desc.allocator.allocate != ft__default_allocate)
        memset(block, 0, bytes);
    memcpy(block, &bytes, sizeof bytes);
    c->bytes += bytes;
    if (c->bytes > c->bytes_peak) c->bytes_peak = c->bytes;
    return block + FT__ALIGNMENT;
}

static void ft__release(ft__context *c, void *memory)
{
    unsigned char *block = (unsigned char *)memory;
    size_t bytes;
    if (!memory) return;
    block -= FT__ALIGNMENT;
    memcpy(&bytes, block, sizeof bytes);
    if (c->forget) c->forget(c, block, bytes);
    c->bytes -= bytes;
    if (!c->desc.arena) c->desc.allocator.release(c->desc.allocator.user, block, bytes);
    else if (block + bytes == (unsigned char *)c->desc.arena + c->arena_used)
        c->arena_used -= bytes;
}

/* Another model with the same allocator owns this block now. */
static void ft__hand_over(ft__context *from, ft__context *to, const void *memory)
{
    size_t bytes;
    if (!memory) return;
    memcpy(&bytes, (const unsigned char *)memory - FT__ALIGNMENT, sizeof bytes);
    from->bytes -= bytes;
    to->bytes += bytes;
}

/* Bytes that the model may still allocate, by the budget and the arena. */
static size_t ft__memory_left(const ft__context *c)
{
    size_t left = ft__room(c);
    if (c->desc.arena && c->desc.arena_bytes - c->arena_used < left)
        left = c->desc.arena_bytes - c->arena_used;
    return left;
}

/* Moves an array to a larger block; if there is no memory, returns NULL and keeps the old block. */
static void *ft__grow(ft__context *c, void *old, size_t old_count, size_t count, size_t size)
{
    void *grown = ft__allocate(c, count, size);
    if (!grown) return NULL;
    if (old) memcpy(grown, old, old_count * size);
    ft__release(c, old);
    return grown;
}

static const char *const ft__status_names[] = {
#define FT__STATUS_NAME(name, text) #name,
    FINETUNE_STATUS_LIST(FT__STATUS_NAME)
};

static const char *const ft__type_names[] = {
#define FT__TYPE_NAME(name, bytes) #name,
    FINETUNE_TYPE_LIST(FT__TYPE_NAME)
};

static const int ft__type_bytes[] = {
#define FT__TYPE_BYTES(name, bytes) bytes,
    FINETUNE_TYPE_LIST(FT__TYPE_BYTES)
};

/* The number of elements; 0 if they do not fit into memory. */
static size_t ft__shape_count(const ft_shape *shape)
{
    size_t count = 1;
    int d;
    for (d = 0; d < shape->rank; ++d) {
        if (shape->size[d] < 0) return 0;
        if (!ft__multiply(count, (size_t)shape->size[d], &count)) return 0;
    }
    return count > SIZE_MAX / 16 ? 0 : count;
}

/* "[N, 3, 224, 224]" for messages; N is the batch, L the length. */
static const char *ft__shape_text(const ft_shape *shape, char text[80])
{
    size_t at = 1;
    int d;
    text[0] = '[';
    for (d = 0; d < shape->rank; ++d) {
        if (d && at < 70) { text[at++] = ','; text[at++] = ' '; }
        if (shape->size[d] == FT_BATCH) text[at++] = 'N';
        else if (shape->size[d] == FT_LENGTH) text[at++] = 'L';
        else at += (size_t)snprintf(text + at, 80 - at - 1, "%d", shape->size[d]);
        if (at > 72) break;
    }
    text[at] = ']';
    text[at + 1] = 0;
    return text;
}
