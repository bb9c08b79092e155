/* embed.h - the verb embed: vectors of texts.
   Part of examples/finetune.c. */

/* How many texts are read, and their vectors written, at a time. */
enum { TEXTS_AT_ONCE = 256 };

/* Where vectors go: a line of standard output each, or a .npy file. */
typedef struct vectors {
    const options *o;
    ft_model *m;
    int features;
    FILE *file;             /* of --out; NULL: standard output */
    unsigned long count;
    float *values;          /* [TEXTS_AT_ONCE, features] */
} vectors;

/* Sets what --pooling and --normalize say of a model file; for a folder ft_load did it. */
static void choose_vector(ft_model *m, const options *o)
{
    ft_text_vector_options how;
    ft_step_pool_options pool;
    ft_node x[2] = {{0}, {0}}, vector = ft_text_vector(m);
    int i;
    memset(&how, 0, sizeof how);
    memset(&pool, 0, sizeof pool);
    if ((!o->pooling && !o->normalize) || is_folder(o->model)) return;
    how.normalize = o->normalize;
    pool.kind = pooling_kind(o);
    for (i = ft_node_count(m); o->pooling && i > 0 && !x[0].id; --i) {
        ft_node node = {0};
        node.id = i;
        if (!strcmp(ft_node_operator(m, node), "step_pool")) ft_node_inputs(m, node, x, 2);
    }
    if (x[0].id) vector = ft_step_pool(m, "chosen_vector", x[0], x[1], pool);
    if (vector.id) ft_set_text_vector(m, vector, how);
}

static bool has_vector(const ft_model *m, const options *o)
{
    if (ft_text_vector(m).id) return true;
    complain("%s does not say how the tokens of a text become one vector: choose --pooling mean, cls or max",
             o->model);
    return false;
}

/* For --task embeddings: does anything say what the vector of a text is? Prints if not, and an option of
   vectors without effect. */
static bool says_vector(ft_model *m, const options *o)
{
    bool wanted = wanted_task(o) == FT_TASK_EMBEDDINGS;
    if (!wanted && (o->pooling || o->normalize || o->minimum_score > 0))
        complain("%s has no effect here: it is for embed and --task embeddings",
                 o->pooling ? "--pooling" : o->normalize ? "--normalize" : "--min-score");
    else if (wanted && !o->model) complain("--task embeddings needs --model");
    else if (!wanted) return true;
    else {
        choose_vector(m, o);
        if (!ft_error(m)) return has_vector(m, o);
        complain("%s", ft_error_text(m));
    }
    return false;
}

/* The first 128 bytes of NumPy's format 1.0: what the numbers after them are. */
static bool write_npy_header(FILE *file, unsigned long count, int features)
{
    static const char begin[10] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0}; /* 118 bytes follow */
    char header[128];
    int bytes;
    memset(header, ' ', sizeof header);
    memcpy(header, begin, sizeof begin);
    bytes = snprintf(header + 10, 117, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lu, %d), }", count,
                     features);
    header[10 + bytes] = ' ';
    header[127] = '\n';
    return fseek(file, 0, SEEK_SET) == 0 && fwrite(header, 128, 1, file) == 1;
}

/* Little endian, whatever the machine's order. */
static bool write_floats(FILE *file, const float *values, size_t count)
{
    unsigned char bytes[4];
    size_t i;
    for (i = 0; i < count; ++i) {
        uint32_t bits;
        int k;
        memcpy(&bits, values + i, sizeof bits);
        for (k = 0; k < 4; ++k) bytes[k] = (unsigned char)(bits >> 8 * k);
        if (fwrite(bytes, 4, 1, file) != 1) return false;
    }
    return true;
}

static void print_vector(const vectors *v, const char *text, const float *values)
{
    int j;
    if (v->o->json) {
        printf("{\"text\": ");
        print_json_text(text);
        printf(", \"vector\": [");
    }
    for (j = 0; j < v->features; ++j)
        printf("%s%.9g", j == 0 ? "" : v->o->json ? ", " : " ", (double)values[j]);
    printf(v->o->json ? "]}\n" : "\n");
}

/* Embeds some texts and writes their vectors. */
static bool write_vectors(vectors *v, char *const *texts, int count)
{
    ft_embed_options how;
    size_t numbers = (size_t)count * (size_t)v->features;
    int i;
    memset(&how, 0, sizeof how);
    how.batch_size = v->o->batch_size;
    if (count == 0) return true;
    if (ft_embed_texts(v->m, (const char *const *)texts, count, v->values, numbers, how) != count) {
        complain("%s", ft_error_text(v->m));
        return false;
    }
    v->count += (unsigned long)count;
    for (i = 0; i < count && !v->file; ++i)
        print_vector(v, texts[i], v->values + (size_t)i * (size_t)v->features);
    if (!v->file || write_floats(v->file, v->values, numbers)) return true;
    complain("--out %s: cannot be written: %s", v->o->out, strerror(errno));
    return false;
}

/* Embeds each line of standard input. */
static bool write_lines(vectors *v)
{
    char *texts[TEXTS_AT_ONCE], *line = NULL;
    size_t size = 0;
    ssize_t length;
    int count = 0;
    bool good = true;
    while (good && (errno = 0, length = getline(&line, &size, stdin)) >= 0) {
        if (length > 0 && line[length - 1] == '\n') line[--length] = 0;
        good = strlen(line) == (size_t)length;
        if (!good) complain("standard input: line %lu contains a zero byte, so it is not a text",
                            v->count + (unsigned long)count + 1);
        texts[count] = good ? strdup(line) : NULL;
        if (texts[count]) count += 1;
        else if (good) good = (complain("out of memory"), false);
        if (good && count < TEXTS_AT_ONCE) continue;
        good = good && write_vectors(v, texts, count);
        while (count > 0) free(texts[--count]);
    }
    if (good && (ferror(stdin) || !feof(stdin))) {
        complain("standard input: cannot be read: %s", errno ? strerror(errno) : "out of memory");
        good = false;
    }
    good = good && write_vectors(v, texts, count);
    while (count > 0) free(texts[--count]);
    free(line);
    if (good && v->count == 0 && !v->o->quiet)
        fprintf(stderr, "finetune: standard input is empty: there is no text to embed\n");
    return good;
}

static bool write_all(vectors *v)
{
    int at, count;
    bool good = true;
    if (v->o->file_count == 0) return write_lines(v);
    for (at = 0; good && at < v->o->file_count; at += count) {
        count = v->o->file_count - at < TEXTS_AT_ONCE ? v->o->file_count - at : TEXTS_AT_ONCE;
        good = write_vectors(v, v->o->files + at, count);
    }
    return good;
}

/* Writes the file beside --out, which is replaced at the end: no half file is left. */
static bool write_npy(vectors *v)
{
    char path[4096];
    bool good;
    snprintf(path, sizeof path, "%s.part", v->o->out);
    v->file = fopen(path, "wb");
    good = v->file && write_npy_header(v->file, 0, v->features);
    if (!good) complain("--out %s: cannot be written: %s", v->o->out, strerror(errno));
    good = good && write_all(v);
    if (good && (!write_npy_header(v->file, v->count, v->features) || fflush(v->file) != 0)) {
        complain("--out %s: cannot be written: %s", v->o->out, strerror(errno));
        good = false;
    }
    if (v->file) fclose(v->file);
    if (good && rename(path, v->o->out) != 0)
        good = (complain("--out %s: cannot be written: %s", v->o->out, strerror(errno)), false);
    if (!good) remove(path);
    if (good && v->o->json) {
        printf("{\"vectors\": %lu, \"features\": %d, \"out\": ", v->count, v->features);
        print_json_text(v->o->out);
        printf("}\n");
    } else if (good && !v->o->quiet) printf("%s written: %lu vectors of %d features\n", v->o->out, v->count,
                                            v->features);
    return good;
}

static int embed(const options *o)
{
    vectors v;
    bool good;
    memset(&v, 0, sizeof v);
    v.o = o;
    if (!o->model) return usage("embed needs --model", "");
    if (o->out && (!ends_with(o->out, ".npy") || is_folder(o->out)))
        return usage("--out must be the name of a .npy file, not ", o->out);
    if (!(v.m = open_model(o))) return FAILED;
    if (ft_error(v.m)) return report(v.m);
    if (!reads_text(v.m, o)) {
        complain("embed needs a model that reads text, but %s does not", o->model);
        return failed(v.m);
    }
    if (!suits_model(v.m, o)) return unsuited(v.m);
    set_max_length(v.m, o);
    open_vocabulary(v.m, o);
    choose_vector(v.m, o);
    if (ft_error(v.m)) return report(v.m);
    if (!has_vector(v.m, o)) return failed(v.m);
    v.features = ft_node_shape(v.m, ft_text_vector(v.m)).size[1];
    v.values = (float *)malloc(TEXTS_AT_ONCE * (size_t)v.features * sizeof *v.values);
    good = v.values && (o->out ? write_npy(&v) : write_all(&v));
    free(v.values);
    ft_destroy(v.m);
    return good ? DONE : FAILED;
}
