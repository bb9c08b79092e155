#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/files.h"

/* =============================================================================================
   [SECTION] basics/saving: Writing a file whole or not at all
   This part writes every file of the library: a new file beside the path, under a unique name, then
   replaces the path in one operation. Another reader sees the old content or the new one, never a
   part; two writers do not write into one file; a link that somebody placed under the name is not
   followed. Only a regular file is ever replaced. What a killed process left is removed a day
   later, when the same path is written again.
   ============================================================================================= */
typedef struct ft__saving {
    ft__context *context;
    char *path, *aside;     /* owned; aside: the file until it is complete */
    void *file;             /* NULL: not open */
    bool written;           /* every write so far succeeded */
    const char *why;        /* what failed, for a message; NULL: nothing failed */
} ft__saving;

static void ft__saving_free(ft__saving *s)
{
    if (!s->context) return;
    ft__release(s->context, s->aside);
    ft__release(s->context, s->path);
    memset(s, 0, sizeof *s);
}

/* NULL if a new file may take this path; else the reason why not. */
static const char *ft__not_replaceable(ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    ft_path_kind kind = files->kind ? files->kind(files->user, path) : FT_PATH_NONE;
    if (kind == FT_PATH_FOLDER) return "cannot be written: it is a folder";
    if (kind == FT_PATH_OTHER)
        return "cannot be written: it is a pipe, a device or another special file; only a regular"
               " file can be replaced";
    return NULL;
}

/* Opens a new file beside the path. Processes try different names; but it is open() that guarantees
   that no name is used twice. */
static bool ft__saving_create(ft__saving *s)
{
    const ft_files *files = &s->context->desc.files;
    uint64_t start = ft__mix((uint64_t)(uintptr_t)s ^ ft__mix(ft__process_number())), tries;
    size_t length = strlen(s->path);
    for (tries = 0; tries < 64 && !s->file; ++tries) {
        uint64_t number = ft__mix(start + tries);
        snprintf(s->aside + length, 32, ".%08lx.partial",
                 (unsigned long)(number & 0xffffffffu));
        s->file = files->open(files->user, s->aside, true);
        if (!s->file && (!files->kind || files->kind(files->user, s->aside) == FT_PATH_NONE))
            break; /* the name is free: open failed for another reason */
    }
    if (s->file) ft__remove_stale(files, s->path, s->aside);
    return s->file != NULL;
}

/* Begins a file for `path`; if that is not possible, sets s->why and returns false. */
static bool ft__saving_begin(ft__saving *s, ft__context *c, const char *path)
{
    memset(s, 0, sizeof *s);
    s->context = c;
    if (!ft__ok(c)) return false;
    s->why = ft__not_replaceable(c, path);
    if (s->why) return false;
    s->path = ft__copy_text(c, path);
    s->aside = (char *)ft__allocate(c, strlen(path) + 32, 1);
    if (!ft__ok(c)) return false;
    memcpy(s->aside, path, strlen(path));
    s->written = ft__saving_create(s);
    if (!s->file) s->why = "cannot be written: does its folder exist, and is it writable?";
    return s->written;
}

static bool ft__saving_write(ft__saving *s, const void *bytes, size_t count)
{
    const ft_files *files = &s->context->desc.files;
    if (s->written && s->file && count > 0)
        s->written = files->write(files->user, s->file, bytes, count) == count;
    return s->file && s->written;
}

/* Moves the file to its path if all of it was written and `keep` is true; else removes it and
   leaves the path as it was. If the file is not in its place, sets s->why and returns false. */
static bool ft__saving_end(ft__saving *s, bool keep)
{
    const ft_files *files;
    bool placed;
    if (!s->context || !s->file) return false;
    files = &s->context->desc.files;
    placed = files->close(files->user, s->file) && s->written;
    s->file = NULL;
    if (!placed) s->why = "writing failed: is the disk full?";
    if (placed && keep) s->why = ft__not_replaceable(s->context, s->path);
    if (placed && keep && !s->why && !files->rename(files->user, s->aside, s->path))
        s->why = "writing failed: the existing file cannot be replaced (is it open elsewhere, or"
                 " protected?)";
    if (placed && keep && !s->why) return true;
    files->remove(files->user, s->aside);
    return false;
}

/* Writes a text as a file, whole or not at all. */
static void ft__write_text(ft__context *c, const char *path, const char *text)
{
    ft__saving file;
    bool written = ft__saving_begin(&file, c, path) && ft__saving_write(&file, text, strlen(text));
    if (!ft__saving_end(&file, written) && ft__ok(c))
        ft__fail(c, FT_IO, "%s: %s", path, file.why ? file.why : "cannot be written");
    ft__saving_free(&file);
}
