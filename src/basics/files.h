#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/files: Files
   The default operations: POSIX calls if the system has them (declared here, as strict C99 hides
   some), stdio otherwise.
   ============================================================================================= */
#if FINETUNE__POSIX
#ifdef __cplusplus
extern "C" {
#endif
int fsync(int descriptor);
#ifdef __cplusplus
}
#endif

/* The pointer holds the descriptor plus one, so that it is never NULL. */
static int ft__descriptor(void *file) { return (int)(intptr_t)file - 1; }

/* For reading, regular files only: a FIFO without a writer would block for ever, one with a writer
   would lose bytes, and opening a device can do anything. O_NONBLOCK is for a FIFO that takes the
   file's place in between; ft__posix_size refuses it. For writing, O_EXCL creates the file, or
   fails if even a link is there. */
static void *ft__posix_open(void *user, const char *path, bool write)
{
    struct stat status;
    int descriptor = -1;
    (void)user;
    if (write) descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    else if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
        descriptor = open(path, O_RDONLY | O_NONBLOCK);
    return descriptor < 0 ? NULL : (void *)(intptr_t)(descriptor + 1);
}

static int64_t ft__posix_size(void *user, void *file)
{
    struct stat status;
    (void)user;
    if (fstat(ft__descriptor(file), &status) != 0) return -1;
    if (!S_ISREG(status.st_mode)) return -1;
    return (int64_t)status.st_size;
}

static size_t ft__posix_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    size_t done = 0;
    (void)user;
    if (lseek(ft__descriptor(file), (off_t)offset, SEEK_SET) < 0) return 0;
    while (done < bytes) {
        ssize_t got = read(ft__descriptor(file), (char *)to + done, bytes - done);
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

static size_t ft__posix_write(void *user, void *file, const void *from, size_t bytes)
{
    size_t done = 0;
    (void)user;
    while (done < bytes) {
        ssize_t put = write(ft__descriptor(file), (const char *)from + done, bytes - done);
        if (put <= 0) break;
        done += (size_t)put;
    }
    return done;
}

static bool ft__posix_close(void *user, void *file)
{
    bool written = (fcntl(ft__descriptor(file), F_GETFL) & O_ACCMODE) != O_RDONLY;
    bool synced = !written || fsync(ft__descriptor(file)) == 0;
    (void)user;
    return close(ft__descriptor(file)) == 0 && synced;
}

static ft_path_kind ft__posix_kind(void *user, const char *path)
{
    struct stat status;
    (void)user;
    if (stat(path, &status) != 0) return FT_PATH_NONE;
    return S_ISREG(status.st_mode) ? FT_PATH_FILE
        : S_ISDIR(status.st_mode) ? FT_PATH_FOLDER : FT_PATH_OTHER;
}

/* Replaces `to`, then syncs its folder, so that the new name is on the disk too. A file system that
   cannot sync a folder has its own way to keep names. */
static bool ft__posix_rename(void *user, const char *from, const char *to)
{
    const char *slash = strrchr(to, '/');
    char folder[4096];
    size_t length = slash ? (size_t)(slash - to) : 0;
    int descriptor;
    (void)user;
    if (rename(from, to) != 0) return false;
    if (length >= sizeof folder) return true;
    snprintf(folder, sizeof folder, "%.*s", (int)length, to);
    descriptor = open(length ? folder : slash ? "/" : ".", O_RDONLY);
    if (descriptor < 0) return true;
    (void)fsync(descriptor);
    (void)close(descriptor);
    return true;
}

static uint64_t ft__process_number(void) { return (uint64_t)getpid(); }

static const void *ft__posix_map(void *user, void *file, size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, ft__descriptor(file), 0);
    (void)user;
    return memory == MAP_FAILED ? NULL : memory;
}

static void ft__posix_unmap(void *user, const void *memory, size_t bytes)
{
    (void)user;
    munmap((void *)(uintptr_t)memory, bytes);
}

static bool ft__posix_list(void *user, const char *path,
                           void (*each)(void *context, const char *name, bool is_folder),
                           void *context)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    (void)user;
    if (!folder) return false;
    while ((entry = readdir(folder)) != NULL) {
        char inner[4096];
        struct stat status;
        int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        /* What has no status (a link to nowhere) is named too: opening it fails. */
        each(context, entry->d_name, length > 0 && (size_t)length < sizeof inner
                                     && stat(inner, &status) == 0 && S_ISDIR(status.st_mode));
    }
    closedir(folder);
    return true;
}

/* Is it NAME.????????.partial, as basics/saving names a file until it is complete? */
static bool ft__is_partial_of(const char *entry, const char *name)
{
    size_t length = strlen(name), i;
    if (strncmp(entry, name, length) != 0 || entry[length] != '.') return false;
    for (i = 1; i <= 8; ++i)
        if (!strchr("0123456789abcdef", entry[length + i]) || !entry[length + i]) return false;
    return strcmp(entry + length + 9, ".partial") == 0;
}

/* Removes what killed processes left beside `path`, if a day lies between the last write to it and
   the making of `fresh`, by the disk's clock: a file that is being written is never so old. */
static void ft__posix_remove_stale(const char *path, const char *fresh)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char folder[4096], inner[4096];
    int length = (int)(name - path);
    struct stat now, status;
    struct dirent *entry;
    DIR *open;
    if (strlen(path) + 32 > sizeof folder || stat(fresh, &now) != 0) return;
    snprintf(folder, sizeof folder, "%.*s", length ? length : 2, length ? path : "./");
    open = opendir(folder);
    while (open && (entry = readdir(open)) != NULL) {
        if (!ft__is_partial_of(entry->d_name, name)) continue;
        snprintf(inner, sizeof inner, "%.*s%.300s", length, path, entry->d_name);
        if (stat(inner, &status) == 0 && S_ISREG(status.st_mode)
            && now.st_mtime - status.st_mtime > 24 * 3600) (void)remove(inner);
    }
    if (open) closedir(open);
}
#else
#ifdef _WIN32
/* Declared as in <windows.h>, whose macros are not wanted here. */
#ifdef __cplusplus
extern "C" {
#endif
__declspec(dllimport) int __stdcall MoveFileExA(const char *from, const char *to,
                                                unsigned long flags);
__declspec(dllimport) unsigned long __stdcall GetFileAttributesA(const char *path);
__declspec(dllimport) unsigned long __stdcall GetCurrentProcessId(void);
#ifdef __cplusplus
}
#endif

/* Creates a file; NULL if it exists. */
static FILE *ft__stdio_create(const char *path)
{
    int descriptor = _open(path, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY,
                           _S_IREAD | _S_IWRITE);
    FILE *file = descriptor < 0 ? NULL : _fdopen(descriptor, "wb");
    if (descriptor >= 0 && !file) _close(descriptor);
    return file;
}

static bool ft__stdio_sync(FILE *file)
{
    return fflush(file) == 0 && _commit(_fileno(file)) == 0;
}

static bool ft__stdio_seek(FILE *file, uint64_t offset, int from)
{
    return offset <= INT64_MAX && _fseeki64(file, (int64_t)offset, from) == 0;
}

static int64_t ft__stdio_tell(FILE *file) { return _ftelli64(file); }

/* This system's rename() fails if `to` exists. 1: replace it; 8: write through. */
static bool ft__stdio_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return MoveFileExA(from, to, 1 | 8) != 0;
}

static ft_path_kind ft__windows_kind(void *user, const char *path)
{
    unsigned long attributes = GetFileAttributesA(path);
    (void)user;
    if (attributes == 0xffffffffu) return FT_PATH_NONE;
    if (attributes & 0x10u) return FT_PATH_FOLDER;
    return attributes & 0x40u ? FT_PATH_OTHER : FT_PATH_FILE;
}

static uint64_t ft__process_number(void) { return GetCurrentProcessId(); }
#else
static FILE *ft__stdio_create(const char *path)
{
    FILE *there = fopen(path, "rb");
    if (!there) return fopen(path, "wb");
    fclose(there);
    return NULL;
}

static bool ft__stdio_sync(FILE *file) { return file != NULL; } /* fclose does what C can do */

static bool ft__stdio_seek(FILE *file, uint64_t offset, int from)
{
    return offset <= LONG_MAX && fseek(file, (long)offset, from) == 0;
}

static int64_t ft__stdio_tell(FILE *file) { return ftell(file); }

static bool ft__stdio_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) == 0;
}

static uint64_t ft__process_number(void) { return 1; }
#endif

static void *ft__stdio_open(void *user, const char *path, bool write)
{
    (void)user;
    return write ? ft__stdio_create(path) : fopen(path, "rb");
}

static int64_t ft__stdio_size(void *user, void *file)
{
    (void)user;
    return ft__stdio_seek((FILE *)file, 0, SEEK_END) ? ft__stdio_tell((FILE *)file) : -1;
}

static size_t ft__stdio_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    if (!ft__stdio_seek((FILE *)file, offset, SEEK_SET)) return 0;
    return fread(to, 1, bytes, (FILE *)file);
}

static size_t ft__stdio_write(void *user, void *file, const void *from, size_t bytes)
{
    (void)user;
    return fwrite(from, 1, bytes, (FILE *)file);
}

/* For a file that was only read the result means nothing, and no caller uses it. */
static bool ft__stdio_close(void *user, void *file)
{
    bool synced = ft__stdio_sync((FILE *)file);
    (void)user;
    return fclose((FILE *)file) == 0 && synced;
}
#endif

static bool ft__default_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) == 0;
}

static void *ft__no_open(void *user, const char *path, bool write)
{
    (void)user;
    (void)path;
    (void)write;
    return NULL;
}

static ft_files ft__default_files(void)
{
    ft_files files;
    memset(&files, 0, sizeof files);
    if (!FT__HAS_STDIO) { /* nothing is ever open, so that no other operation is called */
        files.open = ft__no_open;
        return files;
    }
#if FINETUNE__POSIX
    files.open = ft__posix_open;
    files.size = ft__posix_size;
    files.read = ft__posix_read;
    files.write = ft__posix_write;
    files.close = ft__posix_close;
    files.rename = ft__posix_rename;
    files.kind = ft__posix_kind;
    files.map = ft__posix_map;
    files.unmap = ft__posix_unmap;
    files.list = ft__posix_list;
#else
    files.open = ft__stdio_open;
    files.size = ft__stdio_size;
    files.read = ft__stdio_read;
    files.write = ft__stdio_write;
    files.close = ft__stdio_close;
    files.rename = ft__stdio_rename;
#ifdef _WIN32
    files.kind = ft__windows_kind;
#endif
#endif
    files.remove = ft__default_remove;
    return files;
}

/* See ft__posix_remove_stale; `fresh` will replace `path`. A host's own operations have nothing
   for it. */
static void ft__remove_stale(const ft_files *files, const char *path, const char *fresh)
{
#if FINETUNE__POSIX
    if (FT__HAS_STDIO && files->open == ft__posix_open) ft__posix_remove_stale(path, fresh);
#else
    (void)files, (void)path, (void)fresh;
#endif
}

/* Why a file was not opened to read. */
static const char *ft__not_opened(const ft_files *files, const char *path)
{
    if (files->kind && files->kind(files->user, path) == FT_PATH_FOLDER)
        return "is a folder; a file is expected";
    return FT__HAS_STDIO ? "cannot be opened (not found, no permission, or not a regular file)"
        : "cannot be opened: this build reads files only by ft_desc.files, if that has the file ("
          FT__WITHOUT(STDIO) ")";
}

/* A whole file in memory, which the caller releases; NULL with an error. */
static unsigned char *ft__read_file(ft__context *c, const char *path, size_t *bytes)
{
    ft_files *files = &c->desc.files;
    unsigned char *content = NULL;
    int64_t size;
    void *file;
    if (!ft__ok(c)) return NULL;
    file = files->open(files->user, path, false);
    if (!file) {
        ft__fail(c, FT_IO, "%s: %s", path, ft__not_opened(files, path));
        return NULL;
    }
    size = files->size(files->user, file);
    if (size < 0 || (uint64_t)size > SIZE_MAX / 2) ft__fail(c, FT_IO, "%s: not a regular file",
                                                            path);
    else content = (unsigned char *)ft__allocate(c, (size_t)size + 1, 1);
    if (content && files->read(files->user, file, 0, content, (size_t)size) != (size_t)size) {
        ft__fail(c, FT_IO, "%s: cannot read its %lld bytes", path, (long long)size);
        ft__release(c, content);
        content = NULL;
    }
    files->close(files->user, file);
    *bytes = (size_t)size;
    return content;
}

static bool ft__file_exists(const ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    void *file = files->open(files->user, path, false);
    if (file) files->close(files->user, file);
    return file != NULL;
}
