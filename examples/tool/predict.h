/* predict.h - the verb predict.
   Part of examples/finetune.c. */

static void print_class(const ft_model *m, int index, bool json)
{
    const char *name = ft_class_name(m, index);
    if (json && name) print_json_text(name);
    else if (name) printf("%s", shown(name));
    else printf(json ? "\"class %d\"" : "class %d", index);
}

static void print_prediction(const ft_model *m, const options *o, const char *what,
                             const ft_prediction *best, int count)
{
    int i;
    if (o->json) {
        printf("{\"%s\": ", reads_text(m, o) ? "text" : "file");
        print_json_text(what);
        printf(", \"predictions\": [");
    } else {
        print_text(stdout, what, false);
        printf(":");
    }
    for (i = 0; i < count; ++i) {
        printf(o->json ? (i ? ", {\"class\": " : "{\"class\": ") : (i ? ", " : " "));
        print_class(m, best[i].class_index, o->json);
        if (o->json) printf(", \"index\": %d, \"probability\": %.6f}", best[i].class_index,
                            (double)best[i].probability);
        else printf(" %.1f %%", 100 * (double)best[i].probability);
    }
    printf(o->json ? "]}\n" : "\n");
}

/* ---- Entities, of models that classify words ---- */

/* The number of characters of UTF-8 in so many bytes, as other programs count places in a text. */
static size_t characters(const char *text, size_t bytes)
{
    size_t count = 0, i;
    for (i = 0; i < bytes; ++i) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static void print_entity(const char *text, const ft_entity *e, bool json, bool first)
{
    char *words = (char *)malloc(e->bytes + 1);
    if (!words) return;
    memcpy(words, text + e->start, e->bytes);
    words[e->bytes] = 0;
    if (json) {
        printf(first ? "{\"type\": " : ", {\"type\": ");
        print_json_text(e->type);
        printf(", \"text\": ");
        print_json_text(words);
        printf(", \"start\": %zu, \"end\": %zu, \"probability\": %.6f}", characters(text, e->start),
               characters(text, e->start + e->bytes), (double)e->probability);
    } else {
        printf("%s %s \"", first ? "" : ",", shown(e->type));
        print_text(stdout, words, false);
        printf("\" %.1f %%", 100 * (double)e->probability);
    }
    free(words);
}

/* Prints a text's entities, unless there was an error; then returns 0, else 1. */
static int predict_entities(ft_model *m, const options *o, const char *text)
{
    enum { USUAL = 64 };
    ft_entity few[USUAL], *found = few;
    int count = ft_predict_entities(m, text, strlen(text), few, USUAL), i;
    if (count > USUAL) found = (ft_entity *)calloc((size_t)count, sizeof *found);
    if (!found) count = 0;
    if (count > USUAL) count = ft_predict_entities(m, text, strlen(text), found, count);
    if (ft_error(m)) return 0;
    if (o->json) {
        printf("{\"text\": ");
        print_json_text(text);
        printf(", \"entities\": [");
    } else {
        print_text(stdout, text, false);
        printf(count ? ":" : ": none");
    }
    for (i = 0; i < count; ++i) print_entity(text, &found[i], o->json, i == 0);
    printf(o->json ? "]}\n" : "\n");
    if (found != few) free(found);
    return 1;
}

/* Predicts the number or the classes of a text, or of a pair with a tab between its texts; returns how
   many there are. */
static int predict_text(ft_model *m, const char *what, float *number, ft_prediction *best, int top)
{
    const char *tab = ft_pairs(m) ? strchr(what, '\t') : NULL;
    size_t bytes = tab ? (size_t)(tab - what) : strlen(what), more = tab ? strlen(tab + 1) : 0;
    if (ft_pairs(m) && !tab) {
        complain("the model reads pairs of texts: FIRST, a tab, SECOND are expected, not \"%.100s\"",
                 shown(what));
        return 0;
    }
    if (gives_number(m)) return ft_run_text(m, what, bytes, tab ? tab + 1 : NULL, more, number, 1) == FT_OK;
    return tab ? ft_predict_pair(m, what, bytes, tab + 1, more, best, top)
               : ft_predict_text(m, what, bytes, best, top);
}

static void print_number(const options *o, const char *what, float number)
{
    if (o->json) {
        printf("{\"text\": ");
        print_json_text(what);
        printf(", \"number\": %.9g}\n", (double)number);
        return;
    }
    print_text(stdout, what, false);
    printf(": %.6g\n", (double)number);
}

/* One picture's path, one text or one pair. */
static int predict_one(ft_model *m, const options *o, const char *what)
{
    ft_prediction best[64];
    float number = 0;
    int top = o->top > 0 ? o->top : 3, count;
    bool words = classifies_words(m);
    if (top > 64) top = 64;
    count = words ? predict_entities(m, o, what)
        : reads_text(m, o) ? predict_text(m, what, &number, best, top) : ft_predict_file(m, what, best, top);
    if (count > 0 && !ft_error(m)) {
        if (gives_number(m)) print_number(o, what, number);
        else if (!words) print_prediction(m, o, what, best, count);
        return DONE;
    }
    if (ft_error(m)) complain("%s", ft_error_text(m)); /* then go on with the others */
    if (o->json) {
        printf("{\"%s\": ", reads_text(m, o) ? "text" : "file");
        print_json_text(what);
        print_json_error(", ");
    }
    ft_clear_error(m);
    return FAILED;
}

/* Predicts each line of standard input. */
static int predict_lines(ft_model *m, const options *o)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t count;
    long number = 0;
    int status = DONE;
    while ((errno = 0, count = getline(&line, &size, stdin)) >= 0) {
        number += 1;
        if (count > 0 && line[count - 1] == '\n') line[--count] = 0;
        if (strlen(line) != (size_t)count) {
            complain("standard input: line %ld contains a zero byte, so it is not a text", number);
            status = FAILED;
        } else if (predict_one(m, o, line) != DONE) status = FAILED;
    }
    free(line);
    if (ferror(stdin) || !feof(stdin)) {
        complain("standard input: cannot be read: %s", errno ? strerror(errno) : "out of memory");
        return FAILED;
    }
    if (number == 0 && !o->quiet) fprintf(stderr, "finetune: standard input is empty: there is no text to predict\n");
    return status;
}

static int predict(const options *o)
{
    int i, status = DONE;
    ft_model *m;
    if (!o->model) return usage("predict needs --model", "");
    if (!(m = open_model(o))) return FAILED;
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    set_max_length(m, o);
    if (!name_classes(m, o)) return failed(m);
    open_vocabulary(m, o);
    if (o->pairs) ft_set_pairs(m, true);
    if (ft_error(m)) return report(m);
    if (o->file_count == 0 && !reads_text(m, o)) return usage("predict needs pictures", "");
    if (o->top && classifies_words(m)) {
        usage("--top has no effect here: each word has one class", "");
        return unsuited(m);
    }
    if (o->file_count == 0) status = predict_lines(m, o);
    for (i = 0; i < o->file_count; ++i)
        if (predict_one(m, o, o->files[i]) != DONE) status = FAILED;
    ft_destroy(m);
    return status;
}
