/* report.h - progress, results and errors, for people and as JSON.
   Part of examples/finetune.c. */

static void print_log(void *user, const char *line)
{
    const options *o = (const options *)user;
    if (!o->quiet) fprintf(stderr, "%s\n", line);
}

typedef struct progress_state {
    const options *o;
    bool terminal, line_open;
    double start, last;     /* of this stage; of the last printed line */
    char stage[32];
    const char *samples_are; /* "images" or "texts" */
    long images;            /* in this stage */
    history history;
} progress_state;

/* Columns of the terminal; 80 if unknown. */
static int terminal_width(void)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    int width = columns ? atoi(columns) : 0;
    if (ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) width = size.ws_col;
    return width > 0 ? width : 80;
}

/* "40 s", "12 min", "1.5 h" */
static const char *duration_text(double seconds, char text[24])
{
    if (seconds < 120) snprintf(text, 24, "%.0f s", seconds);
    else if (seconds < 7200) snprintf(text, 24, "%.0f min", seconds / 60);
    else snprintf(text, 24, "%.1f h", seconds / 3600);
    return text;
}

/* The parts of a line, in order. If it is wider than the terminal, the first part and the rate are
   shortened; then the least important parts are left out. */
enum { PLACE, LOSS, RIGHT, HELD, RATE, LEFT, PARTS };

static void join_parts(char parts[PARTS][96], int width, char *line)
{
    static const int least[] = {RATE, HELD, RIGHT, LEFT, LOSS};
    size_t length = 0, l;
    int i;
    for (i = 0; i < PARTS; ++i) length += strlen(parts[i]);
    for (l = 0; l < sizeof least / sizeof least[0] && length > (size_t)width; ++l) {
        length -= strlen(parts[least[l]]);
        parts[least[l]][0] = 0;
    }
    line[0] = 0;
    for (i = 0; i < PARTS; ++i) strcat(line, parts[i]);
    if (strlen(line) > (size_t)width) line[width] = 0;
}

/* A line that is rewritten must not be wider than the terminal, or its old parts would stay. */
static void print_progress(progress_state *s, const ft_progress *p, double now)
{
    double rate = now > s->start ? (double)s->images / (now - s->start) : 0;
    double done = p->epoch + (double)p->step / (p->steps > 0 ? p->steps : 1);
    double left = done > 0 ? (now - s->start) / done * (p->epochs - done) : 0;
    char parts[PARTS][96], line[PARTS * 96], time[24];
    int width = s->terminal ? terminal_width() - 1 : (int)sizeof line - 1, i;
    size_t length = 0;
    memset(parts, 0, sizeof parts);
    snprintf(parts[PLACE], 96, "%s: epoch %d/%d step %d/%d", p->stage, p->epoch + 1, p->epochs, p->step,
             p->steps);
    snprintf(parts[LOSS], 96, "  loss %.4f", p->loss);
    if (p->accuracy >= 0) snprintf(parts[RIGHT], 96, "  right %.1f %%", 100 * p->accuracy);
    if (p->held_back_accuracy >= 0)
        snprintf(parts[HELD], 96, "  held back %.1f %%", 100 * p->held_back_accuracy);
    if (p->metric != FT_METRIC_AUTO && p->metric != FT_METRIC_ACCURACY)
        snprintf(parts[HELD], 96, "  held back %s %.4f", ft_metric_name(p->metric), p->held_back_metric);
    snprintf(parts[RATE], 96, "  %.0f %s/s", rate, s->samples_are);
    snprintf(parts[LEFT], 96, "  %s left", duration_text(left, time));
    for (i = 0; i < PARTS; ++i) length += strlen(parts[i]);
    if (length > (size_t)width) {
        snprintf(parts[PLACE], 96, "%s %d/%d, %d/%d", p->stage, p->epoch + 1, p->epochs, p->step, p->steps);
        snprintf(parts[RATE], 96, "  %.0f/s", rate);
    }
    join_parts(parts, width, line);
    fprintf(stderr, "%s%s%s", s->terminal ? "\r" : "", line, s->terminal ? "\033[K" : "\n");
    s->line_open = s->terminal;
    s->last = now;
}

/* Before the first step: the outputs of frozen layers, for the cache. */
static void print_preparing(progress_state *s, const ft_progress *p, double now)
{
    s->start = now; /* the time left is that of the steps */
    if (s->o->quiet || !s->terminal || now - s->last <= 0.1) return;
    fprintf(stderr, "\r%s: frozen layers %d/%d\033[K", p->stage, p->step, p->steps);
    s->line_open = true;
    s->last = now;
}

static bool on_progress(void *user, const ft_progress *p)
{
    progress_state *s = (progress_state *)user;
    double now = seconds_now();
    bool due, last;
    if (strcmp(s->stage, p->stage) != 0) {
        if (s->line_open) fprintf(stderr, "\n");
        s->line_open = false;
        snprintf(s->stage, sizeof s->stage, "%s", p->stage);
        s->start = s->last = now;
        s->images = 0;
    }
    if (p->preparing) {
        print_preparing(s, p, now);
        return !interrupted;
    }
    note_epoch(&s->history, p, now);
    s->images += p->batch;
    /* A terminal has one line that is rewritten, a file gets at most one line per epoch. */
    last = p->epoch_done && p->epoch + 1 == p->epochs;
    due = s->terminal ? now - s->last > 0.1 : p->epoch_done && now - s->last > 2;
    if (!s->o->quiet && (due || last)) print_progress(s, p, now);
    return !interrupted;
}

/* Closes a file; false: not all of it could be written. */
static bool close_written(FILE *to)
{
    bool written = !ferror(to);
    return fclose(to) == 0 && written;
}

/* Fails after an error that was printed already. */
static int failed(ft_model *m)
{
    ft_destroy(m);
    return FAILED;
}

static int report(ft_model *m)
{
    complain("%s", ft_error_text(m));
    ft_destroy(m);
    return FAILED;
}

/* Bytes of the UTF-8 character that begins here, 0 if none does. Overlong forms and halves of
   surrogate pairs are not characters (RFC 3629). */
static int utf8_bytes(const unsigned char *at)
{
    int more = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : *at >= 0xe0 && *at < 0xf0 ? 2
        : *at >= 0xf0 && *at < 0xf5 ? 3 : -1, i;
    if (more > 1 && ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f)
                     || (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f))) return 0;
    for (i = 1; i <= more; ++i)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return more + 1;
}

/* Whether the character does something to a terminal other than to stand there: controls, ends of
   lines, and marks that turn the direction of what follows. */
static bool is_control(const unsigned char *at, int bytes)
{
    if (bytes == 1) return (*at < 0x20 && *at != '\t') || *at == 0x7f;
    if (bytes == 2) return *at == 0xc2 && at[1] < 0xa0;
    if (bytes != 3 || *at != 0xe2) return false;
    return at[1] == 0x80 ? at[2] == 0x8e || at[2] == 0x8f || (at[2] >= 0xa8 && at[2] <= 0xae)
                         : at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9;
}

/* Writes a text that came from a file: what a terminal would obey, and what is not UTF-8, is written
   as \x1B, byte by byte. A tab stays, as between the texts of a pair; with `lines`, ends of lines too. */
static void print_text(FILE *to, const char *text, bool lines)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        int bytes = utf8_bytes(at), i;
        bool plain = bytes && (!is_control(at, bytes) || (lines && *at == '\n'));
        if (bytes == 0) bytes = 1;
        for (i = 0; i < bytes; ++i) fprintf(to, plain ? "%c" : "\\x%02X", at[i]);
        at += bytes;
    }
}

/* The same of a name, for a line; valid for the next three calls. The end of a long one is left out. */
static const char *shown(const char *name)
{
    static char texts[4][1024];
    static int turn;
    char *text = texts[turn++ & 3];
    const unsigned char *at = (const unsigned char *)(name ? name : "");
    size_t count = 0;
    while (*at && count < sizeof texts[0] - 32) {
        int bytes = utf8_bytes(at), i;
        bool plain = bytes && !is_control(at, bytes);
        if (bytes == 0) bytes = 1;
        for (i = 0; i < bytes; ++i)
            count += (size_t)snprintf(text + count, 8, plain ? "%c" : "\\x%02X", at[i]);
        at += bytes;
    }
    text[count] = 0;
    return text;
}

/* Prints a JSON string: escapes quotes, backslashes and control characters; a byte that is not
   UTF-8 becomes U+FFFD, as in decoders. */
static void print_json_text(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    int bytes;
    putchar('"');
    for (; *at; at += bytes ? bytes : 1) {
        bytes = utf8_bytes(at);
        if (*at == '"' || *at == '\\') printf("\\%c", *at);
        else if (*at < 0x20) printf("\\u%04x", *at);
        else if (bytes) printf("%.*s", bytes, (const char *)at);
        else printf("\\ufffd");
    }
    putchar('"');
}

/* The rest of an object that begins with `start`: what complain() printed last; nothing, if that is
   printed already. */
static void print_json_error(const char *start)
{
    if (!complaint[0]) return;
    printf("%s\"error\": ", start);
    print_json_text(complaint);
    printf("}\n");
    complaint[0] = 0;
}

static void print_evaluation_json(const ft_evaluation *e)
{
    if (e->regression) {
        printf("\"total\": %d, \"skipped\": %d, \"pearson\": %.6f, \"spearman\": %.6f, \"r2\": %.6f, "
               "\"mse\": %.9g, \"loss\": %.9g", e->total, e->skipped, e->pearson, e->spearman, e->r2,
               e->mse, e->loss);
        return;
    }
    if (e->similarity) {
        printf("\"pearson\": %.6f, \"spearman\": %.6f, \"total\": %d, \"skipped\": %d", e->pearson, e->spearman,
               e->total, e->skipped);
        return;
    }
    printf("\"correct\": %d, \"total\": %d, \"skipped\": %d, \"accuracy\": %.6f, "
           "\"interval\": [%.6f, %.6f], \"loss\": %.6f", e->correct, e->total, e->skipped,
           e->accuracy, e->low, e->high, e->loss);
    if (e->entities)
        printf(", \"entities\": {\"correct\": %d, \"predicted\": %d, \"total\": %d, \"precision\": %.6f, "
               "\"recall\": %.6f, \"f1\": %.6f}", e->entities_correct, e->entities_predicted,
               e->entities_total, e->precision, e->recall, e->f1);
}

/* A line for each metric; not for those that are the accuracy by another name. */
static void print_metrics(const ft_metrics *metrics)
{
    int k;
    for (k = 0; k < FT_METRIC_COUNT; ++k) {
        const ft_measure *m = &metrics->of[k];
        const char *name = ft_metric_name((ft_metric)k);
        if (m->known && k != FT_METRIC_ACCURACY && !strstr(name, "_micro"))
            printf("  %-20s %9.4f   (%.4f to %.4f)\n", name, m->value, m->low, m->high);
    }
}

/* All metrics of classes, or of numbers; null: not defined for these samples. */
static void print_metrics_json(const ft_metrics *metrics)
{
    bool numbers = metrics->of[FT_METRIC_MAE].known;
    int k, last = numbers ? FT_METRIC_COUNT : FT_METRIC_MAE;
    if (metrics->samples == 0) return;
    printf(", \"metrics\": {");
    for (k = numbers ? FT_METRIC_MAE : FT_METRIC_ACCURACY; k < last; ++k) {
        const ft_measure *m = &metrics->of[k];
        printf("\"%s\": ", ft_metric_name((ft_metric)k));
        if (m->known) printf("{\"value\": %.9g, \"low\": %.9g, \"high\": %.9g}", m->value, m->low, m->high);
        else printf("null");
        printf("%s", k + 1 < last ? ", " : "}");
    }
}

static void print_evaluation(const ft_evaluation *e)
{
    if (e->regression) {
        printf("Pearson %.4f, Spearman %.4f, R2 %.4f, mean squared error %.4g of %d\n", e->pearson,
               e->spearman, e->r2, e->mse, e->total);
        return;
    }
    if (e->similarity) {
        printf("cosines of %d pairs and their numbers: Spearman %.4f, Pearson %.4f\n", e->total, e->spearman,
               e->pearson);
        return;
    }
    printf("%d of %d %sright: %.2f %% (95 %% interval %.2f to %.2f), loss %.4f\n", e->correct,
           e->total, e->entities ? "words " : "", 100 * e->accuracy, 100 * e->low, 100 * e->high, e->loss);
    if (e->entities)
        printf("entities: F1 %.2f %%, precision %.2f %%, recall %.2f %% (%d right of %d predicted and %d in"
               " the data)\n", 100 * e->f1, 100 * e->precision, 100 * e->recall, e->entities_correct,
               e->entities_predicted, e->entities_total);
}
