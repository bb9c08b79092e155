/* host_files.h - ft_desc.files by stdio, which do not wait for the disk; how a file is opened is
   for each test to say. */
#ifndef HOST_FILES_H
#define HOST_FILES_H

#include <stdio.h>

static int64_t host_size(void *user, void *file)
{
    (void)user;
    return fseek((FILE *)file, 0, SEEK_END) == 0 ? (int64_t)ftell((FILE *)file) : -1;
}

static size_t host_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    return fseek((FILE *)file, (long)offset, SEEK_SET) == 0 ? fread(to, 1, bytes, (FILE *)file) : 0;
}

static size_t host_write(void *user, void *file, const void *from, size_t bytes)
{
    (void)user;
    return fwrite(from, 1, bytes, (FILE *)file);
}

static bool host_close(void *user, void *file)
{
    (void)user;
    return fclose((FILE *)file) == 0;
}

static bool host_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) == 0;
}

static bool host_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) == 0;
}

static ft_files host_files(void *(*open)(void *user, const char *path, bool write))
{
    return (ft_files){.open = open, .size = host_size, .read = host_read, .write = host_write,
                      .close = host_close, .rename = host_rename, .remove = host_remove};
}

#endif
