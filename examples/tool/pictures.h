/* pictures.h - --augment, and the verbs check and preview.
   Part of examples/finetune.c. */

/* Reads --augment, --flip and --no-shift; prints what is wrong. */
static bool read_augmentation(const options *o, ft_augmentation *a)
{
    const struct { const char *name; float *to; } numbers[] = {
        {"crop", &a->scale}, {"degrees", &a->degrees}, {"zoom", &a->zoom}, {"shear", &a->shear},
        {"brightness", &a->brightness}, {"contrast", &a->contrast}, {"saturation", &a->saturation},
        {"hue", &a->hue}, {"blur", &a->blur}, {"erase", &a->erase}, {"shift", &a->shift}};
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    const char *at = o->augment;
    char word[64], *value;
    double number;
    size_t i, length;
    memset(a, 0, sizeof *a);
    a->flip = o->flip;
    for (; at && *at; at += length + (at[length] == ',')) {
        length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)(length < 63 ? length : 63), at);
        value = strchr(word, '=');
        if (value) *value++ = 0;
        for (i = 0; i < NUMBERS && strcmp(numbers[i].name, word) != 0; ++i) {}
        if (!value && !strcmp(word, "trivial")) a->policy = FT_TRIVIAL_AUGMENT;
        else if (!value && !strcmp(word, "rand")) a->policy = FT_RAND_AUGMENT;
        else if (!value && !strcmp(word, "flip-vertical")) a->flip_vertical = true;
        else if (i < NUMBERS && value && read_number(value, &number) && number > 0 && number < 1000)
            *numbers[i].to = (float)number;
        else {
            usage("--augment is a list of trivial, rand, flip-vertical and NAME=NUMBER (see --help), with"
                  " numbers above 0; not ", at);
            return false;
        }
    }
    if (o->no_shift && a->shift > 0) {
        usage("--no-shift has no effect here: --augment has a shift", "");
        return false;
    }
    if (o->no_shift) a->shift = -1;
    return true;
}

/* ---- What is odd about pictures: said, and never a reason to stop ---- */

typedef struct picture_file {
    char *path;
    const char *name;       /* CLASS/FILE, in path */
    long long bytes;
    uint64_t hash;          /* of its bytes; 0: not needed */
    uint64_t outline[4];    /* a bit for each pair of neighbours in its form of 17 x 16 grey pixels:
                               is the right one brighter? */
    int set, index, label;  /* set 0: --data, 1: --val */
    int same_as;            /* an earlier file; -1: none */
} picture_file;

typedef struct picture_files { picture_file *files; int count, room; } picture_files;

static uint64_t hash_of_file(const char *path)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    unsigned char bytes[4096];
    size_t got, i;
    FILE *file = fopen(path, "rb");
    while (file && (got = fread(bytes, 1, sizeof bytes, file)) > 0)
        for (i = 0; i < got; ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
    if (file) fclose(file);
    return hash ? hash : 1;
}

static void add_file(picture_files *all, const char *folder, const char *name, int set, int index, int label)
{
    picture_file *file;
    struct stat at;
    size_t length = strlen(folder) + strlen(name) + 2;
    if (all->count == all->room) {
        int room = 2 * all->room + 64;
        file = (picture_file *)realloc(all->files, (size_t)room * sizeof *file);
        if (!file) return;
        all->files = file;
        all->room = room;
    }
    file = &all->files[all->count];
    memset(file, 0, sizeof *file);
    file->path = (char *)malloc(length);
    if (!file->path) return;
    snprintf(file->path, length, "%s/%s", folder, name);
    file->name = file->path + strlen(folder) + 1;
    file->set = set;
    file->index = index;
    file->label = label;
    file->same_as = -1;
    if (stat(file->path, &at) == 0) file->bytes = (long long)at.st_size;
    all->count += 1;
}

static void add_data(picture_files *all, const char *folder, const ft_data *data, int set)
{
    int i;
    for (i = 0; i < ft_data_count(data); ++i)
        add_file(all, folder, ft_data_name(data, i), set, i, ft_data_label(data, i));
}

/* Adds the files of FOLDER/CLASS, without opening them. */
static void add_folder(picture_files *all, const char *folder, int set)
{
    char path[4096], name[4096];
    struct dirent *class_entry, *entry;
    DIR *classes = opendir(folder), *files;
    struct stat at;
    while (classes && (class_entry = readdir(classes))) {
        if (class_entry->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, class_entry->d_name) >= (int)sizeof path) continue;
        files = opendir(path);
        while (files && (entry = readdir(files))) {
            if (entry->d_name[0] == '.'
                || snprintf(name, sizeof name, "%s/%s", path, entry->d_name) >= (int)sizeof name
                || stat(name, &at) != 0 || !S_ISREG(at.st_mode)) continue;
            add_file(all, folder, name + strlen(folder) + 1, set, -1, -1);
        }
        if (files) closedir(files);
    }
    if (classes) closedir(classes);
}

static void free_files(picture_files *all)
{
    int i;
    for (i = 0; i < all->count; ++i) free(all->files[i].path);
    free(all->files);
}

static int by_bytes(const void *a, const void *b)
{
    const picture_file *x = (const picture_file *)a, *y = (const picture_file *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    if (x->set != y->set) return x->set - y->set;
    return strcmp(x->path, y->path);
}

/* Sorts the files by their bytes, and finds those that are the same as an earlier one. */
static void find_same(picture_files *all)
{
    int i;
    if (all->count == 0) return;
    qsort(all->files, (size_t)all->count, sizeof *all->files, by_bytes);
    for (i = 0; i < all->count; ++i)
        if ((i > 0 && all->files[i - 1].bytes == all->files[i].bytes)
            || (i + 1 < all->count && all->files[i + 1].bytes == all->files[i].bytes))
            all->files[i].hash = hash_of_file(all->files[i].path);
    qsort(all->files, (size_t)all->count, sizeof *all->files, by_bytes);
    for (i = 1; i < all->count; ++i) {
        const picture_file *before = &all->files[i - 1];
        if (before->bytes != all->files[i].bytes || before->hash != all->files[i].hash || !before->hash) continue;
        all->files[i].same_as = before->same_as >= 0 ? before->same_as : i - 1;
    }
}

/* How many files of set `set` are the same as one of --data. */
static int same_files(const picture_files *all, int set)
{
    int i, same = 0;
    for (i = 0; i < all->count; ++i)
        same += all->files[i].set == set && all->files[i].same_as >= 0
            && all->files[all->files[i].same_as].set == 0;
    return same;
}

static void say_lonely_classes(FILE *to, const ft_data *data, const char *folder)
{
    int classes = ft_data_classes(data), k, i;
    int *pictures = (int *)calloc((size_t)classes + 1, sizeof *pictures);
    for (i = 0; pictures && i < ft_data_count(data); ++i) pictures[ft_data_label(data, i)] += 1;
    for (k = 0; pictures && k < classes; ++k)
        if (pictures[k] == 1)
            fprintf(to, "%s: class %s has one picture: none of it can be held back\n", folder,
                    shown(ft_data_class_name(data, k)));
    free(pictures);
}

/* Before training: what costs no more than reading files of equal size. */
static void say_what_is_odd(const options *o, const ft_data *data)
{
    picture_files all;
    int within, across;
    memset(&all, 0, sizeof all);
    if (!data) return;
    add_data(&all, o->data, data, 0);
    if (o->val) add_folder(&all, o->val, 1);
    find_same(&all);
    within = same_files(&all, 0);
    across = same_files(&all, 1);
    if (across > 0)
        fprintf(stderr, "%d files of --val are also in --data, byte for byte: what is scored was trained on"
                " (finetune check lists them)\n", across);
    if (within > 0)
        fprintf(stderr, "%d files of --data are there twice, byte for byte (finetune check lists them)\n", within);
    say_lonely_classes(stderr, data, o->data);
    free_files(&all);
}

/* ---- check ---- */

static int bits_that_differ(const uint64_t a[4], const uint64_t b[4])
{
    int i, count = 0;
    for (i = 0; i < 4; ++i) {
        uint64_t x = a[i] ^ b[i];
        for (; x; x &= x - 1) ++count;
    }
    return count;
}

enum { OUTLINE_WIDTH = 17, OUTLINE_HEIGHT = 16, NEAR = 12, NEIGHBOURS = 9, LISTED = 100 };

/* Reads a view of a picture, 0 as it is, as an input [channels, height, width]. */
static bool read_picture(ft_data *data, int index, int view, const ft_preprocessing *p, float *to)
{
    ft_slot slot;
    memset(&slot, 0, sizeof slot);
    slot.name = "input";
    slot.type = FT_F32;
    slot.shape.rank = 3;
    slot.shape.size[0] = p->channels;
    slot.shape.size[1] = p->height;
    slot.shape.size[2] = p->width;
    slot.values = to;
    return ft_data_read(data, index, view, &slot, 1) == FT_OK;
}

static void read_outline(ft_data *data, const ft_preprocessing *p, picture_file *file)
{
    float grey[OUTLINE_WIDTH * OUTLINE_HEIGHT];
    int x, y, bit = 0;
    if (!read_picture(data, file->index, 0, p, grey)) return;
    for (y = 0; y < OUTLINE_HEIGHT; ++y)
        for (x = 0; x + 1 < OUTLINE_WIDTH; ++x, ++bit)
            if (grey[y * OUTLINE_WIDTH + x + 1] > grey[y * OUTLINE_WIDTH + x])
                file->outline[bit / 64] |= (uint64_t)1 << bit % 64;
}

/* An outline with few bits is that of a picture with little in it: too many look alike. */
static bool has_outline(const picture_file *file)
{
    static const uint64_t none[4] = {0, 0, 0, 0};
    int bits = bits_that_differ(file->outline, none);
    return bits > 24 && bits < 232;
}

static void print_pair(const options *o, bool *first, const picture_file *a, const picture_file *b)
{
    const char *of_a = a->set ? o->val : o->data, *of_b = b->set ? o->val : o->data;
    if (!o->json) {
        printf("  %s/%s", of_a, shown(a->name));
        printf(" and %s/%s%s\n", of_b, shown(b->name),
               a->set == b->set && a->label != b->label ? ", with another label" : "");
        return;
    }
    printf("%s[", *first ? "" : ", ");
    print_json_text(a->path);
    printf(", ");
    print_json_text(b->path);
    printf("]");
    *first = false;
}

/* Pairs of the same bytes, or of nearly the same outline; val's only beside data's. */
static int print_pairs(const options *o, const picture_files *all, bool exact)
{
    int i, k, count = 0;
    bool first = true;
    for (i = 0; i < all->count; ++i) {
        const picture_file *b = &all->files[i];
        if (exact && b->same_as >= 0) {
            if (++count <= LISTED || o->json) print_pair(o, &first, &all->files[b->same_as], b);
            continue;
        }
        if (exact || b->same_as >= 0 || !has_outline(b)) continue;
        for (k = 0; k < i; ++k) {
            const picture_file *a = &all->files[k];
            if (a->same_as >= 0 || (a->set == 1 && b->set == 1)
                || bits_that_differ(a->outline, b->outline) > NEAR) continue;
            if (++count <= LISTED || o->json) print_pair(o, &first, a, b);
        }
    }
    if (!o->json && count > LISTED) printf("  and %d more (--json lists all)\n", count - LISTED);
    return count;
}

static int print_tiny(const options *o, const picture_files *all)
{
    int i, count = 0, width, height, channels;
    for (i = 0; i < all->count; ++i) {
        if (!stbi_info(all->files[i].path, &width, &height, &channels) || (width >= 16 && height >= 16)) continue;
        count += 1;
        if (o->json) {
            printf("%s", count > 1 ? ", " : "");
            print_json_text(all->files[i].path);
        } else if (count <= LISTED)
            printf("  %s/%s is %d x %d pixels\n", all->files[i].set ? o->val : o->data, shown(all->files[i].name),
                   width, height);
    }
    return count;
}

/* The node whose numbers the last linear layer reads: the features of a picture. */
static ft_node features_of(const ft_model *m)
{
    ft_node node = ft_output(m), none = {0};
    while (node.id && strcmp(ft_node_operator(m, node), "linear") != 0)
        if (ft_node_inputs(m, node, &node, 1) < 1) return none;
    if (!node.id || ft_node_inputs(m, node, &node, 1) < 1) return none;
    return node;
}

typedef struct doubt { int index, votes, guess; double score; } doubt;

static int by_doubt(const void *a, const void *b)
{
    const doubt *x = (const doubt *)a, *y = (const doubt *)b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : x->index - y->index;
}

/* Features of length 1 of all pictures: [count, *size], to be freed; NULL with an error. */
static float *read_features(ft_model *m, ft_data *data, size_t *size)
{
    ft_preprocessing p = ft_get_preprocessing(m);
    ft_node node = features_of(m);
    size_t pixels = (size_t)p.channels * (size_t)p.height * (size_t)p.width, outputs, k;
    ft_shape shape = ft_node_shape(m, node), out = ft_node_shape(m, ft_output(m));
    int count = ft_data_count(data), i;
    float *x = (float *)malloc(pixels * sizeof *x), *features = NULL, *logits = NULL;
    if (shape.rank == 2) {
        *size = (size_t)shape.size[1];
        features = (float *)malloc((size_t)count * *size * sizeof *features);
    }
    outputs = out.rank == 2 ? (size_t)out.size[1] : 0;
    logits = (float *)malloc((outputs + 1) * sizeof *logits);
    if (features) ft_keep(m, node);
    for (i = 0; x && features && logits && i < count && !ft_error(m); ++i) {
        float *f = features + (size_t)i * *size;
        double sum = 0;
        if (!read_picture(data, i, 0, &p, x)) break;
        ft_run(m, x, 1, logits, outputs);
        ft_get(m, node, f, *size);
        for (k = 0; k < *size; ++k) sum += (double)f[k] * (double)f[k];
        for (k = 0; k < *size; ++k) f[k] = sum > 0 ? (float)((double)f[k] / sqrt(sum)) : 0;
    }
    free(logits);
    free(x);
    return features;
}

/* What the nine pictures with the nearest features say of picture i: the more of them have one other
   class, and the nearer they are than those of its own class, the larger the score. */
static doubt doubt_of(const ft_data *data, const float *features, size_t size, int i, int *votes)
{
    int nearest[NEIGHBOURS], found = 0, count = ft_data_count(data), own = ft_data_label(data, i), k, n;
    double cosine[NEIGHBOURS], best[2] = {-2, -2};
    doubt d;
    memset(&d, 0, sizeof d);
    memset(votes, 0, (size_t)ft_data_classes(data) * sizeof *votes);
    for (k = 0; k < count; ++k) {
        const float *a = features + (size_t)i * size, *b = features + (size_t)k * size;
        float dot = 0;
        size_t c;
        if (k == i) continue;
        for (c = 0; c < size; ++c) dot += a[c] * b[c];
        if ((double)dot > best[ft_data_label(data, k) != own]) best[ft_data_label(data, k) != own] = (double)dot;
        if (found == NEIGHBOURS && (double)dot <= cosine[NEIGHBOURS - 1]) continue;
        if (found < NEIGHBOURS) ++found;
        for (n = found - 1; n > 0 && (double)dot > cosine[n - 1]; --n) {
            cosine[n] = cosine[n - 1];
            nearest[n] = nearest[n - 1];
        }
        cosine[n] = (double)dot;
        nearest[n] = k;
    }
    for (n = 0; n < found; ++n) votes[ft_data_label(data, nearest[n])] += 1;
    for (d.guess = k = 0; k < ft_data_classes(data); ++k)
        if (votes[k] > votes[d.guess]) d.guess = k;
    d.index = i;
    d.votes = votes[d.guess];
    d.score = votes[d.guess] - votes[own] + 0.25 * (best[1] - best[0]);
    if (d.guess == own) d.score = -1;
    return d;
}

/* Lists the pictures whose neighbours have another label; returns how many; -1 with an error. */
static int print_doubts(ft_model *m, const options *o)
{
    ft_data *data = open_folder(m, o, o->data, false);
    int count = data ? ft_data_count(data) : 0, listed = 0, i;
    size_t size = 0;
    float *features = data ? read_features(m, data, &size) : NULL;
    doubt *doubts = (doubt *)calloc((size_t)count + 1, sizeof *doubts);
    int *votes = (int *)calloc((size_t)(data ? ft_data_classes(data) : 0) + 1, sizeof *votes);
    for (i = 0; features && doubts && votes && i < count && !ft_error(m); ++i)
        doubts[i] = doubt_of(data, features, size, i, votes);
    if (doubts && count > 0) qsort(doubts, (size_t)count, sizeof *doubts, by_doubt);
    for (i = 0; features && doubts && i < count && doubts[i].score > 0; ++i) {
        const char *name = ft_data_name(data, doubts[i].index);
        listed += 1;
        if (o->json) {
            printf("%s{\"file\": ", i ? ", " : "");
            print_json_text(name);
            printf(", \"votes\": %d, \"class\": ", doubts[i].votes);
            print_json_text(ft_data_class_name(data, doubts[i].guess));
            printf("}");
        } else if (listed <= LISTED) {
            printf("  %s: ", shown(name));
            printf("%d of 9 are %s\n", doubts[i].votes, shown(ft_data_class_name(data, doubts[i].guess)));
        }
    }
    if (!o->json && listed > LISTED) printf("  and %d more (--json lists all)\n", listed - LISTED);
    free(votes);
    free(doubts);
    if (!features && !ft_error(m)) complain("%s: its last layer is not a linear one over a row of features", o->model);
    if (!features || ft_error(m)) listed = -1;
    free(features);
    return listed;
}

/* Opens the folders as small grey pictures, whose outlines are compared. */
static ft_model *open_outlines(const options *o, ft_data *data[2], picture_files *all)
{
    ft_preprocessing p;
    ft_image_folder_options folder;
    ft_model *m = create(o);
    int i;
    memset(&p, 0, sizeof p);
    memset(&folder, 0, sizeof folder);
    p.channels = 1;
    p.width = OUTLINE_WIDTH;
    p.height = OUTLINE_HEIGHT;
    p.std[0] = 1;
    data[1] = NULL;
    if (!m) return NULL;
    ft_set_preprocessing(m, p);
    folder.no_groups = true;
    data[0] = ft_image_folder(m, o->data, folder);
    folder.classes_of = data[0];
    if (o->val && data[0]) data[1] = ft_image_folder(m, o->val, folder);
    for (i = 0; i < 2 && !ft_error(m); ++i)
        if (data[i]) add_data(all, i ? o->val : o->data, data[i], i);
    for (i = 0; i < all->count && !ft_error(m); ++i) read_outline(data[all->files[i].set], &p, &all->files[i]);
    return m;
}

static int check(const options *o)
{
    picture_files all;
    ft_data *data[2];
    ft_model *m;
    int broken, listed = 0;
    memset(&all, 0, sizeof all);
    if (!o->data) return usage("check needs --data", "");
    m = open_outlines(o, data, &all);
    if (!m) return FAILED;
    if (ft_error(m)) return report(m);
    broken = ft_data_skipped(data[0]) + (data[1] ? ft_data_skipped(data[1]) : 0);
    find_same(&all);
    if (o->json) printf("{\"pictures\": %d, \"broken\": %d, \"tiny\": [", all.count, broken);
    else printf("%d pictures, %d broken files%s\n", all.count, broken, broken ? " (named above)" : "");
    if (!o->json) printf("pictures below 16 pixels:\n");
    listed = print_tiny(o, &all);
    if (!o->json) printf("  %d\nclasses of one picture:\n", listed);
    if (!o->json) say_lonely_classes(stdout, data[0], o->data);
    printf(o->json ? "], \"duplicates\": [" : "the same files:\n");
    listed = print_pairs(o, &all, true);
    if (!o->json) printf("  %d\n", listed);
    printf(o->json ? "], \"alike\": [" : "pictures that look alike:\n");
    listed = print_pairs(o, &all, false);
    if (!o->json) printf("  %d\n", listed);
    free_files(&all);
    ft_destroy(m);
    if (o->model) {
        if (!(m = open_model(o))) return FAILED;
        if (ft_error(m)) return report(m);
        printf(o->json ? "], \"doubtful\": ["
                       : "labels that the nine pictures of nearest features contradict, most doubtful first:\n");
        listed = print_doubts(m, o);
        if (ft_error(m)) return report(m);
        ft_destroy(m);
        if (listed < 0) return FAILED;
        if (!o->json) printf("  %d\n", listed);
    }
    if (o->json) printf("]}\n");
    return DONE;
}

/* ---- preview ---- */

enum { SHEET_ROWS = 8, SHEET_COLUMNS = 8, SHEET_GAP = 2 };

/* Puts a network's input back into the sheet as a picture. */
static void put_picture(const ft_preprocessing *p, const float *x, unsigned char *to, size_t row_bytes)
{
    int c, u, v;
    for (v = 0; v < p->height; ++v)
        for (u = 0; u < p->width; ++u)
            for (c = 0; c < 3; ++c) {
                int plane = p->channels == 1 ? 0 : c;
                float std = p->std[plane] != 0 ? p->std[plane] : 1;
                float value = x[(plane * p->height + v) * p->width + u] * std + p->mean[plane];
                value = value * 255 + 0.5f;
                to[(size_t)v * row_bytes + (size_t)u * 3 + (size_t)c] =
                    (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
}

static int write_sheet(const options *o, ft_model *m, ft_data *data)
{
    ft_preprocessing p = ft_get_preprocessing(m);
    int count = ft_data_count(data), rows = count < SHEET_ROWS ? count : SHEET_ROWS, row, column;
    int width = SHEET_COLUMNS * (p.width + SHEET_GAP), height = rows * (p.height + SHEET_GAP);
    size_t row_bytes = (size_t)width * 3;
    unsigned char *sheet = (unsigned char *)malloc(row_bytes * (size_t)height);
    float *x = (float *)malloc((size_t)p.channels * (size_t)p.width * (size_t)p.height * sizeof *x);
    bool written = false;
    if (sheet) memset(sheet, 255, row_bytes * (size_t)height);
    for (row = 0; sheet && x && row < rows; ++row)
        for (column = 0; column < SHEET_COLUMNS; ++column) {
            int sample = (int)((long long)row * count / rows);
            if (!read_picture(data, sample, column, &p, x)) break;
            put_picture(&p, x, sheet + (size_t)row * (size_t)(p.height + SHEET_GAP) * row_bytes
                        + (size_t)column * (size_t)(p.width + SHEET_GAP) * 3, row_bytes);
        }
    if (sheet && x && !ft_error(m))
        written = (ends_with(o->out, ".png") ? stbi_write_png(o->out, width, height, 3, sheet, width * 3)
                                             : stbi_write_bmp(o->out, width, height, 3, sheet)) != 0;
    free(x);
    free(sheet);
    if (ft_error(m)) return report(m);
    if (!written) complain("%s: cannot be written", o->out);
    else if (!o->quiet)
        printf("%s written: %d pictures, each as it is and in %d views\n", o->out, rows, SHEET_COLUMNS - 1);
    ft_destroy(m);
    return written ? DONE : FAILED;
}

static int preview(const options *o)
{
    ft_image_folder_options folder;
    ft_model *m;
    ft_data *data;
    memset(&folder, 0, sizeof folder);
    if (!o->model || !o->data || !o->out) return usage("preview needs --model, --data and --out", "");
    if (!ends_with(o->out, ".png") && !ends_with(o->out, ".bmp"))
        return usage("--out of preview must end in .png or .bmp, not ", o->out);
    if (!read_augmentation(o, &folder.augmentation)) return USAGE;
    if (folder.augmentation.shift < 0) folder.augmentation.shift = 0;
    else if (folder.augmentation.shift == 0 && !folder.augmentation.policy)
        folder.augmentation.shift = 0.1f; /* as ft_finetune */
    if (!(m = open_model(o))) return FAILED;
    if (ft_error(m)) return report(m);
    folder.no_groups = true;
    data = ft_image_folder(m, o->data, folder);
    if (!data) return report(m);
    return write_sheet(o, m, data);
}
