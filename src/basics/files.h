#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/files: Files
   The default operations: POSIX calls where they exist (declared here where strict C99 hides them),
   stdio elsewhere.
   ============================================================================================= */
#if FINETUNE__POSIX
#ifdef __cplusplus
extern "C" {
#endif
int fsync(int descriptor);
#ifdef __cplusplus
}
#endif

/* A descriptor is carried in the pointer, plus one so that it is never NULL. */
static int ft__descriptor(void *file) { return (int)(intptr_t)file - 1; }

static void *ft__posix_open(void *user, const char *path, bool write)
{
    int descriptor = write ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : open(path, O_RDONLY);
    (void)user;
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
        if (length < 0 || (size_t)length >= sizeof inner || stat(inner, &status) != 0) continue;
        each(context, entry->d_name, S_ISDIR(status.st_mode) != 0);
    }
    closedir(folder);
    return true;
}
#else
static void *ft__stdio_open(void *user, const char *path, bool write)
{
    (void)user;
    return fopen(path, write ? "wb" : "rb");
}

static int64_t ft__stdio_size(void *user, void *file)
{
    (void)user;
    if (fseek((FILE *)file, 0, SEEK_END) != 0) return -1;
    return (int64_t)ftell((FILE *)file);
}

static size_t ft__stdio_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    if (offset > LONG_MAX || fseek((FILE *)file, (long)offset, SEEK_SET) != 0) return 0;
    return fread(to, 1, bytes, (FILE *)file);
}

static size_t ft__stdio_write(void *user, void *file, const void *from, size_t bytes)
{
    (void)user;
    return fwrite(from, 1, bytes, (FILE *)file);
}

static bool ft__stdio_close(void *user, void *file)
{
    (void)user;
    return fclose((FILE *)file) == 0;
}
#endif

static bool ft__default_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) == 0;
}

static bool ft__default_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) == 0;
}

static ft_files ft__default_files(void)
{
    ft_files files;
    memset(&files, 0, sizeof files);
#if FINETUNE__POSIX
    files.open = ft__posix_open;
    files.size = ft__posix_size;
    files.read = ft__posix_read;
    files.write = ft__posix_write;
    files.close = ft__posix_close;
    files.map = ft__posix_map;
    files.unmap = ft__posix_unmap;
    files.list = ft__posix_list;
#else
    files.open = ft__stdio_open;
    files.size = ft__stdio_size;
    files.read = ft__stdio_read;
    files.write = ft__stdio_write;
    files.close = ft__stdio_close;
#endif
    files.rename = ft__default_rename;
    files.remove = ft__default_remove;
    return files;
}

/* A whole file in memory (released by the caller); NULL with an error. */
static unsigned char *ft__read_file(ft__context *c, const char *path, size_t *bytes)
{
    ft_files *files = &c->desc.files;
    unsigned char *content = NULL;
    int64_t size;
    void *file;
    if (!ft__ok(c)) return NULL;
    file = files->open(files->user, path, false);
    if (!file) {
        ft__fail(c, FT_IO, "%s: cannot be opened", path);
        return NULL;
    }
    size = files->size(files->user, file);
    if (size < 0 || (uint64_t)size > SIZE_MAX / 2) ft__fail(c, FT_IO, "%s: not a file", path);
    else content = (unsigned char *)ft__allocate(c, (size_t)size + 1, 1);
    if (content && files->read(files->user, file, 0, content, (size_t)size) != (size_t)size) {
        ft__fail(c, FT_IO, "%s: reading its %lld bytes failed", path, (long long)size);
        ft__release(c, content);
        content = NULL;
    }
    files->close(files->user, file);
    *bytes = (size_t)size;
    return content;
}
