#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/sorting.h"

/* =============================================================================================
   [SECTION] basics/folders: Folders
   Lists a folder in an order that does not depend on the file system, and joins paths.
   ============================================================================================= */
static char *ft__join_path(ft__context *c, const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    char *path = (char *)ft__allocate(c, a + b + 2, 1);
    if (!path) return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b);
    return path;
}

typedef struct ft__entry { char *name; bool is_folder; } ft__entry;

/* What is not read, for one line in the log: how many, and the first. */
typedef struct ft__left_out { int count; const char *first; } ft__left_out;

typedef struct ft__listing {
    ft__context *context;
    ft__entry *entries;
    int *order;             /* by name, bytewise */
    int count, capacity;
    bool (*is_sample)(const char *name);
    ft__left_out hidden;    /* samples, but for the dot before their names; owns `first` */
} ft__listing;

static void ft__count_left_out(ft__left_out *left_out, const char *name)
{
    if (left_out->count++ == 0) left_out->first = name;
}

/* `one` and `many` name what it is: "a: skipped 2 folders inside this class: old and others" */
static void ft__log_left_out(const ft__context *c, const char *path, const ft__left_out *left_out,
                             const char *one, const char *many)
{
    if (left_out->count)
        ft__log(c, "%s: skipped %d %s: %s%s", path, left_out->count,
                left_out->count > 1 ? many : one, left_out->first,
                left_out->count > 1 ? " and others" : "");
}

static void ft__listing_add(void *user, const char *name, bool is_folder)
{
    ft__listing *listing = (ft__listing *)user;
    if (!strcmp(name, "__MACOSX") || !ft__ok(listing->context))
        return; /* some archivers add this folder */
    if (name[0] == '.') { /* hidden; .DS_Store and others are no samples, so nobody misses them */
        char *first = is_folder || !listing->is_sample(name) || listing->hidden.count++ ? NULL
            : ft__copy_text(listing->context, name);
        if (first) listing->hidden.first = first;
        return;
    }
    if (listing->count == listing->capacity) {
        int capacity = 2 * listing->capacity + 16;
        ft__entry *grown = (ft__entry *)ft__grow(listing->context, listing->entries,
                                                 (size_t)listing->count, (size_t)capacity,
                                                 sizeof *grown);
        if (!grown) return;
        listing->entries = grown;
        listing->capacity = capacity;
    }
    listing->entries[listing->count].name = ft__copy_text(listing->context, name);
    listing->entries[listing->count].is_folder = is_folder;
    if (ft__ok(listing->context)) listing->count += 1;
}

static bool ft__entry_less(const void *context, int a, int b)
{
    const ft__entry *entries = (const ft__entry *)context;
    int order = strcmp(entries[a].name, entries[b].name);
    return order < 0 || (order == 0 && a < b);
}

static void ft__listing_free(ft__listing *listing)
{
    int i;
    ft__release(listing->context, listing->order);
    ft__release(listing->context, (void *)(uintptr_t)listing->hidden.first);
    for (i = listing->count - 1; i >= 0; --i)
        ft__release(listing->context, listing->entries[i].name);
    ft__release(listing->context, listing->entries);
}

/* Lists the folder. is_sample: would a file of this name be read, were it not hidden? */
static bool ft__listing_read(ft__context *c, ft__listing *listing, const char *path,
                             bool (*is_sample)(const char *name))
{
    const ft_files *files = &c->desc.files;
    memset(listing, 0, sizeof *listing);
    listing->context = c;
    listing->is_sample = is_sample;
    if (!files->list || !files->list(files->user, path, ft__listing_add, listing))
        ft__fail(c, FT_IO, "%s: %s (pictures must be in a folder that has one folder per class)",
                 path, files->kind && files->kind(files->user, path) == FT_PATH_FILE
                 ? "is a file, not a folder of pictures, which this network reads"
                 : "folder not found");
    listing->order = (int *)ft__allocate(c, (size_t)listing->count + 1, sizeof(int));
    if (ft__ok(c))
        ft__sort_order(listing->order, listing->count, ft__entry_less, listing->entries);
    if (listing->hidden.first)
        ft__log_left_out(c, path, &listing->hidden, "hidden file", "hidden files");
    return ft__ok(c);
}

static void ft__pass_over(void *user, const char *name, bool is_folder)
{
    (void)user;
    (void)name;
    (void)is_folder;
}

static bool ft__is_folder(const ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    return files->list && files->list(files->user, path, ft__pass_over, NULL);
}
