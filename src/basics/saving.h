#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/files.h"

/* =============================================================================================
   [SECTION] basics/saving: Writing a file whole or not at all
   Everything that this library writes goes through here: into a new file beside the path, under a
   name of its own, which then takes the path's place at once. Another reader sees the old content
   or the new one, never a part; two writers do not write into one file; a link that somebody laid
   under the name is not followed. Nothing but a regular file is ever replaced.
   ============================================================================================= */
typedef struct ft__saving {
    ft__context *context;
    char *path, *aside;     /* owned; aside: where it is written until it is whole */
    void *file;             /* NULL: not open */
    bool written;           /* every write so far succeeded */
    const char *why;        /* what failed, for a message; NULL: nothing */
} ft__saving;

static void ft__saving_free(ft__saving *s)
{
    if (!s->context) return;
    ft__release(s->context, s->aside);
    ft__release(s->context, s->path);
    memset(s, 0, sizeof *s);
}

/* May a new file take this path? NULL: yes; else why not. */
static const char *ft__not_replaceable(ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    ft_path_kind kind = files->kind ? files->kind(files->user, path) : FT_PATH_NONE;
    if (kind == FT_PATH_FOLDER) return "cannot be written: it is a folder";
    if (kind == FT_PATH_OTHER)
        return "cannot be written: it is a pipe, a device or another special file, and only a"
               " regular file is replaced";
    return NULL;
}

/* Opens a new file aside. The names that are tried differ from process to process; that none is
   taken twice is open()'s promise, not theirs. */
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
            break; /* the name is free: there is another reason */
    }
    return s->file != NULL;
}

/* Begins a file that is to be at `path`; false, with s->why, where that cannot be. */
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
    if (!s->file) s->why = "cannot be written: is its folder there, and may files be made in it?";
    return s->written;
}

static bool ft__saving_write(ft__saving *s, const void *bytes, size_t count)
{
    const ft_files *files = &s->context->desc.files;
    if (s->written && s->file && count > 0)
        s->written = files->write(files->user, s->file, bytes, count) == count;
    return s->file && s->written;
}

/* Puts the file in its place if all of it was written and `keep` says so; else nothing is left of
   it, and what was at the path stays. False, with s->why, where it is not in its place. */
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
        s->why = "writing failed: what is there cannot be replaced (is it open elsewhere, or"
                 " protected?)";
    if (placed && keep && !s->why) return true;
    files->remove(files->user, s->aside);
    return false;
}
