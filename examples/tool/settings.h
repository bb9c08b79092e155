/* settings.h - the settings of a sweep: their lists from the command line, their table and its JSON.
   Part of examples/finetune.c. */

enum { MOST_ENTRIES = 64 };
typedef struct entries { const char *of[MOST_ENTRIES]; int count; char text[2048]; } entries;

/* Splits a list at this letter; a list that ends with it has an empty entry at its end. False: it is
   too long. */
static bool split_list(const char *list, char at, entries *to)
{
    char *next;
    if (!list) return true;
    if (strlen(list) >= sizeof to->text) return false;
    strcpy(to->text, list);
    for (next = to->text; next; ) {
        char *end = strchr(next, at);
        if (to->count == MOST_ENTRIES) return false;
        to->of[to->count++] = next;
        if (end) *end = 0;
        next = end ? end + 1 : NULL;
    }
    return true;
}

/* --freeze: a glob has commas itself, so entries are separated by semicolons; a list that begins with a
   comma means nothing frozen, then the glob behind it. That is what a shell makes of "","conv1*,bn1*". */
static bool split_freeze(const char *list, entries *to)
{
    if (!list || *list != ',' || strchr(list, ';')) return split_list(list, ';', to);
    if (!split_list(list + 1, ';', to)) return false;
    to->of[to->count++] = to->of[0];
    to->of[0] = "";
    return true;
}

/* 90, 90s, 10m or 2h; 0: none of these. */
static double read_duration(const char *text)
{
    char *end;
    double number = strtod(text, &end);
    double unit = !*end || !strcmp(end, "s") ? 1 : !strcmp(end, "m") ? 60 : !strcmp(end, "h") ? 3600 : 0;
    return end != text && number > 0 && number * unit <= 1e8 ? number * unit : 0;
}

/* ---- The table ---- */
typedef struct sweep_table {
    ft_sweep_row *rows;
    int count, room;
    ft_sweep_result result;
    char command[4096];     /* that trains the winner */
} sweep_table;

static void keep_setting(void *user, const ft_sweep_row *row)
{
    sweep_table *t = (sweep_table *)user;
    if (t->count == t->room) {
        int room = t->room ? 2 * t->room : 64;
        ft_sweep_row *more = (ft_sweep_row *)realloc(t->rows, (size_t)room * sizeof *more);
        if (!more) return;
        t->rows = more;
        t->room = room;
    }
    t->rows[t->count++] = *row;
}

/* The choices of a setting, in one line. */
static const char *setting_text(const ft_sweep_row *r, char *text, size_t size)
{
    const struct { const char *name, *value; } parts[] = {
        {"freeze", r->freeze}, {"activation", r->activation}, {"loss", r->loss}, {"optimizer", r->optimizer}};
    size_t i;
    text[0] = 0;
    if (r->learning_rate > 0) snprintf(text, size, "lr %g", (double)r->learning_rate);
    for (i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
        size_t at = strlen(text);
        if (!parts[i].value) continue;
        if (i == 0) snprintf(text + at, size - at, "%s%s \"%s\"", at ? ", " : "", parts[i].name, parts[i].value);
        else snprintf(text + at, size - at, "%s%s", at ? ", " : "",
                      *parts[i].value ? parts[i].value : i == 1 ? "activations as they are" : "its own loss");
    }
    return text;
}

/* How a setting compares with the winner. */
static const char *setting_state(const ft_sweep_row *r, const ft_sweep_result *result)
{
    if (r->place == 1) return "best";
    if (r->failed) return "not finite";
    if (r->epochs == 0) return "no time";
    if (r->differs) return "worse";
    return r->epochs == result->winner.epochs ? "may be as good" : "dropped, may be as good";
}

static void print_value(const ft_sweep_result *result, double value, double low, double high, char text[64])
{
    if (result->regression) snprintf(text, 64, "%.4g (%.4g to %.4g)", value, low, high);
    else snprintf(text, 64, "%.1f %% (%.1f to %.1f)", 100 * value, 100 * low, 100 * high);
}

static void print_table(const sweep_table *t)
{
    const ft_sweep_result *result = &t->result;
    int i;
    printf("%s of %d held-back samples, with its 95 %% interval:\n",
           result->regression ? "mean squared error" : "share right", result->samples);
    for (i = 0; i < t->count; ++i) {
        const ft_sweep_row *r = &t->rows[i];
        char text[300], value[64], time[24];
        print_value(result, r->value, r->low, r->high, value);
        printf("%3d. %-25s %3d epoch%s %6s %7.0f MB  %-23s %s\n", r->place, value, r->epochs,
               r->epochs == 1 ? " " : "s", duration_text(r->seconds, time), 1e-6 * (double)r->memory,
               setting_state(r, result), shown(setting_text(r, text, sizeof text)));
    }
    printf("%s\n", shown(result->choice));
    if (result->timed_out)
        printf("the time was over before the last cut: --resume with a larger --budget goes on\n");
    printf("%s\n", t->command);
}

static void print_settings_json(const sweep_table *t)
{
    int i;
    printf("\"settings\": [");
    for (i = 0; i < t->count; ++i) {
        const ft_sweep_row *r = &t->rows[i];
        const char *const names[] = {"freeze", "activation", "loss", "optimizer"};
        const char *const values[] = {r->freeze, r->activation, r->loss, r->optimizer};
        int k;
        printf("%s{\"place\": %d, \"epochs\": %d, \"value\": %.9g, \"interval\": [%.9g, %.9g], \"winner_then\": %.9g,"
               " \"p\": %.9g, \"differs\": %s, \"failed\": %s, \"seconds\": %.3f, \"memory\": %llu", i ? ", " : "",
               r->place, r->epochs, r->value, r->low, r->high, r->best, r->p, r->differs ? "true" : "false",
               r->failed ? "true" : "false", r->seconds, (unsigned long long)r->memory);
        if (r->learning_rate > 0) printf(", \"lr\": %.9g", (double)r->learning_rate);
        for (k = 0; k < 4; ++k) {
            if (!values[k]) continue;
            printf(", \"%s\": ", names[k]);
            print_json_text(values[k]);
        }
        printf("}");
    }
    printf("], \"equal\": %d, \"undecided\": %d, \"timed_out\": %s, \"command\": ", t->result.equal,
           t->result.undecided, t->result.timed_out ? "true" : "false");
    print_json_text(t->command);
}
