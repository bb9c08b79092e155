/* cache.h - the folder where a run keeps results for the next one: outputs of frozen layers, which
   pictures can be read, and kernels that an OpenCL driver compiled.
   Part of examples/finetune.c. */

static const long long most_cached = 2LL << 30; /* most bytes in the tool's own folder */

/* Is it a folder that only this user may write to? Compiled kernels from it are run. */
static bool is_own_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == geteuid() && !(s.st_mode & 022);
}

/* Scans the folder: returns the bytes in it, and finds the file that was written longest ago. */
static long long look_through(const char *folder, char oldest[1300])
{
    DIR *open = opendir(folder);
    struct dirent *entry;
    long long bytes = 0;
    time_t earliest = 0;
    oldest[0] = 0;
    while (open && (entry = readdir(open)) != NULL) {
        char path[1300];
        struct stat s;
        snprintf(path, sizeof path, "%s/%.255s", folder, entry->d_name);
        if (stat(path, &s) != 0 || !S_ISREG(s.st_mode)) continue;
        bytes += (long long)s.st_size;
        if (oldest[0] && s.st_mtime >= earliest) continue;
        earliest = s.st_mtime;
        memcpy(oldest, path, sizeof path);
    }
    if (open) closedir(open);
    return bytes;
}

/* The tool's own folder, created if needed and kept below its size; NULL if there can be none. */
static const char *own_cache(void)
{
    static char folder[1024];
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char oldest[1300];
    bool given = base && base[0] == '/'; /* the XDG specification ignores relative paths */
    if (!given && (!home || home[0] != '/')) return NULL;
    if (strlen(given ? base : home) > 900) return NULL;
    if (given) snprintf(folder, sizeof folder, "%s", base);
    else snprintf(folder, sizeof folder, "%s/.cache", home);
    mkdir(folder, 0700);
    strcat(folder, "/finetune");
    mkdir(folder, 0700);
    if (!is_own_folder(folder)) return NULL;
    while (look_through(folder, oldest) > most_cached && unlink(oldest) == 0) {}
    return folder;
}

/* The value for ft_desc.cache: --cache's folder, else FINETUNE_CACHE's, else, if something is to be
   kept, the tool's own; "none" means no folder. */
static const char *cache_folder(const options *o, bool keeps)
{
    const char *folder = o->cache ? o->cache : getenv("FINETUNE_CACHE");
    if (!folder || !*folder) return keeps ? own_cache() : NULL;
    if (!strcmp(folder, "none")) return NULL;
    mkdir(folder, 0777); /* it may exist already */
    return folder;
}
