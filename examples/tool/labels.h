/* labels.h - class names from a file, for networks without them.
   Part of examples/finetune.c. */

typedef struct label_list {
    const char *path;
    char *content;
    char **names, **owned;  /* owned: allocated names; NULL for those that point into content */
    int count;
} label_list;

static void free_labels(label_list *l)
{
    int i;
    for (i = 0; l->owned && i < l->count; ++i) free(l->owned[i]);
    free(l->owned);
    free(l->names);
    free(l->content);
}

/* Prints what is wrong with a line (from 1; 0: with the file). */
static bool label_fault(const label_list *l, int line, const char *what)
{
    if (line) complain("--labels %s: line %d: %s", l->path, line, what);
    else complain("--labels %s: %s", l->path, what);
    return false;
}

/* Reads the whole file and adds a 0. */
static bool read_labels(label_list *l)
{
    enum { MOST = 1 << 26 };
    struct stat s;
    FILE *file = stat(l->path, &s) == 0 && S_ISREG(s.st_mode) ? fopen(l->path, "rb") : NULL;
    size_t bytes = file && s.st_size < MOST ? (size_t)s.st_size : 0, i, got;
    if (!file) return label_fault(l, 0, "file not found, or not readable");
    l->content = (char *)malloc(bytes + 1);
    got = l->content ? fread(l->content, 1, bytes, file) : 0;
    fclose(file);
    if (!l->content || got != bytes || bytes == 0)
        return label_fault(l, 0, "it cannot be read, or is empty or larger than 64 MB");
    l->content[bytes] = 0;
    if (strlen(l->content) != bytes) return label_fault(l, 0, "it contains a zero byte, so it is not a text");
    for (i = 0; i < bytes;) {
        int taken = utf8_bytes((const unsigned char *)l->content + i);
        if (!taken) return label_fault(l, 0, "it is not UTF-8");
        i += (size_t)taken;
    }
    return true;
}

/* Splits the content into lines and removes spaces at their ends. */
static bool cut_labels(label_list *l)
{
    char *at = l->content + (strncmp(l->content, "\xef\xbb\xbf", 3) ? 0 : 3), *end, *next;
    size_t lines = 1;
    int empty = 0;
    for (end = at; *end; ++end) lines += *end == '\n';
    l->names = (char **)calloc(lines, sizeof *l->names);
    l->owned = (char **)calloc(lines, sizeof *l->owned);
    if (!l->names || !l->owned) return label_fault(l, 0, "out of memory");
    for (; at; at = next) {
        end = at + strcspn(at, "\n");
        next = *end ? end + 1 : NULL;
        while (*at == ' ' || *at == '\t') ++at;
        while (end > at && strchr(" \t\r\n", end[-1])) --end;
        *end = 0;
        if (!*at) {
            empty += 1;
            continue;
        }
        if (empty) return label_fault(l, l->count + 1, "it is empty: each class needs a line");
        l->names[l->count++] = at;
    }
    return true;
}

/* Lines of an id, a tab and names separated by commas, as ImageNet's: takes the first name, with
   the id if another class has it too. */
static bool names_behind_ids(label_list *l)
{
    int i, j;
    for (i = 0; i < l->count; ++i)
        if (!strchr(l->names[i], '\t')) return false;
    for (i = 0; i < l->count; ++i) { /* now id, 0, name, 0 */
        char *tab = strchr(l->names[i], '\t'), *comma = strstr(tab + 1, ", ");
        *tab = 0;
        if (comma) *comma = 0;
    }
    for (i = 0; i < l->count; ++i) {
        const char *id = l->names[i], *name = id + strlen(id) + 1;
        size_t bytes = strlen(id) + strlen(name) + 8;
        bool again = false;
        for (j = 0; j < l->count && !again; ++j)
            again = j != i && !strcmp(l->names[j] + strlen(l->names[j]) + 1, name);
        l->owned[i] = (char *)malloc(bytes);
        if (l->owned[i]) snprintf(l->owned[i], bytes, again ? "%s (%s)" : "%s", name, id);
    }
    for (i = 0; i < l->count; ++i) l->names[i] = l->owned[i];
    return true;
}

static bool labels_fit(const ft_model *m, const label_list *l)
{
    char text[200];
    if (ft_class_count(m) == 0) return label_fault(l, 0, "the model has no classes to name");
    if (l->count != ft_class_count(m)) {
        snprintf(text, sizeof text, "%d names, but the model has %d classes", l->count, ft_class_count(m));
        return label_fault(l, 0, text);
    }
    return true;
}

/* Gives the classes the names of --labels; prints if predictions will have none. */
static bool name_classes(ft_model *m, const options *o)
{
    label_list l;
    bool named = false;
    int i, j;
    memset(&l, 0, sizeof l);
    l.path = o->labels;
    if (ft_error(m)) return true;
    if (!o->labels) {
        if (ft_class_count(m) > 0 && !ft_class_name(m, 0) && !o->quiet)
            fprintf(stderr, "%s has no names for its %d classes: they are shown as numbers (--labels FILE names them)\n",
                    o->model, ft_class_count(m));
        return true;
    }
    if (read_labels(&l) && cut_labels(&l) && labels_fit(m, &l)) {
        named = true;
        if (!names_behind_ids(&l))
            for (i = 1; named && i < l.count; ++i)
                for (j = 0; named && j < i; ++j)
                    if (!strcmp(l.names[i], l.names[j])) named = label_fault(&l, i + 1, "it is already the name of another class");
    }
    if (named) ft_set_class_names(m, l.count, (const char *const *)l.names);
    free_labels(&l);
    return named;
}

/* For --labels in train: does the network keep them, since the data has these classes? */
static bool keeps_labels(const ft_model *m, const options *o, const ft_data *data)
{
    int count = ft_data_classes(data), i;
    if (!o->labels || ft_error(m)) return true;
    for (i = 0; i < count && count == ft_class_count(m); ++i)
        if (strcmp(ft_class_name(m, i), ft_data_class_name(data, i)) != 0) break;
    if (i == count && count > 0 && count == ft_class_count(m)) return true;
    complain("--labels has no effect here: the data has %d classes of its own (the first is"
             " '%s'), and the network gets a new head for them", count,
             count ? ft_data_class_name(data, 0) : "none");
    return false;
}
