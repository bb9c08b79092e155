/* sweep.h - the verb sweep: tries settings, and keeps the best.
   Part of examples/finetune.c. */

typedef struct sweep_lists {
    entries rates, freeze, activations, losses, optimizers;
    float numbers[MOST_ENTRIES];
    double seconds;
} sweep_lists;

/* Reads the lists; prints what is wrong. */
static bool read_lists(const options *o, sweep_lists *l)
{
    char *end;
    int i;
    memset(l, 0, sizeof *l);
    if (!split_list(o->rates, ',', &l->rates) || !split_freeze(o->freeze, &l->freeze)
        || !split_list(o->activation, ',', &l->activations) || !split_list(o->loss, ',', &l->losses)
        || !split_list(o->optimizer, ',', &l->optimizers)) {
        usage("a list is too long", "");
        return false;
    }
    for (i = 0; i < l->rates.count; ++i) {
        l->numbers[i] = strtof(l->rates.of[i], &end);
        if (end != l->rates.of[i] && !*end && l->numbers[i] > 0 && l->numbers[i] <= 1e9f) continue;
        usage("--lr must be numbers above 0, separated by commas, not ", o->rates);
        return false;
    }
    for (i = 0; i < l->losses.count; ++i)
        if (!strcmp(l->losses.of[i], "ce")) l->losses.of[i] = "cross_entropy";
    l->seconds = o->budget ? read_duration(o->budget) : 0;
    if (!o->budget || l->seconds > 0) return true;
    usage("--budget must be a time such as 90s, 10m or 2h, not ", o->budget);
    return false;
}

static ft_sweep_options sweep_options(const options *o, const sweep_lists *l, const ft_augmentation *views,
                                      progress_state *progress, sweep_table *table)
{
    ft_sweep_options s;
    memset(&s, 0, sizeof s);
    s.learning_rate_count = l->rates.count;
    s.learning_rates = l->rates.count ? l->numbers : NULL;
    s.freeze_count = l->freeze.count;
    s.freeze = l->freeze.count ? l->freeze.of : NULL;
    s.activation_count = l->activations.count;
    s.activations = l->activations.count ? l->activations.of : NULL;
    s.where = o->where;
    s.loss_count = l->losses.count;
    s.losses = l->losses.count ? l->losses.of : NULL;
    s.optimizer_count = l->optimizers.count;
    s.optimizers = l->optimizers.count ? l->optimizers.of : NULL;
    s.seeds = o->seeds;
    s.draws = o->draws;
    s.cut = o->cut;
    s.seconds = l->seconds;
    s.finetune = train_options(o, views, NULL, progress, NULL);
    s.finetune.freeze = s.finetune.loss = s.finetune.optimizer = NULL; /* these are lists here */
    s.row = keep_setting;
    s.row_user = table;
    return s;
}

/* Adds words to the command, in quotes if a shell needs them. */
static void add_word(sweep_table *t, const char *word)
{
    size_t at = strlen(t->command), room = sizeof t->command - 8;
    bool plain = *word && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+:=@%")
                 == strlen(word);
    if (at < room) at += (size_t)sprintf(t->command + at, at ? " %s" : "%s", plain ? "" : "'");
    for (; *word && at < room; ++word)
        at += (size_t)sprintf(t->command + at, !plain && *word == '\'' ? "'\\''" : "%c", *word);
    if (!plain && at < room) strcat(t->command, "'");
}

static void add_option(sweep_table *t, const char *name, const char *value)
{
    if (!value) return;
    add_word(t, name);
    add_word(t, value);
}

/* Does train get this option as sweep has it? Lists, and what a sweep sets itself, are added apart. */
static bool is_copied(const option_row *row)
{
    static const char *const others[] = {
        "--lr", "--freeze", "--activation", "--where", "--loss", "--optimizer", "--schedule", "--epochs", "--hold-back",
        "--report", "--resume", "--json"};
    size_t i;
    for (i = 0; i < sizeof others / sizeof others[0]; ++i)
        if (!strcmp(row->name, others[i])) return false;
    return !row->verbs || strchr(row->verbs, 't');
}

/* The command of train that gives the winner again. */
static void make_command(const options *o, sweep_table *t)
{
    const ft_sweep_row *w = &t->result.winner;
    char text[64];
    int r, digits;
    add_word(t, "finetune");
    add_word(t, "train");
    for (r = 0; r < OPTION_ROWS; ++r) {
        const option_row *row = &option_rows[r];
        if (!o->given[r] || !is_copied(row)) continue;
        add_word(t, row->name);
        if (row->kind != 'b') add_word(t, option_text(o, r, text));
    }
    for (digits = 3; digits < 10; ++digits) { /* as few as give the same number again */
        snprintf(text, sizeof text, "%.*g", digits, (double)w->learning_rate);
        if (!(strtof(text, NULL) < w->learning_rate) && !(strtof(text, NULL) > w->learning_rate)) break;
    }
    if (w->learning_rate > 0) add_option(t, "--lr", text);
    add_option(t, "--freeze", w->freeze ? w->freeze : "");
    if (w->activation && *w->activation) {
        add_option(t, "--activation", w->activation);
        add_option(t, "--where", o->where);
    }
    if (w->loss && *w->loss) add_option(t, "--loss", w->loss);
    add_option(t, "--optimizer", w->optimizer);
    add_option(t, "--schedule", o->schedule ? o->schedule : "cosine");
    snprintf(text, sizeof text, "%d", t->result.epochs);
    add_option(t, "--epochs", text);
    snprintf(text, sizeof text, "%.9g", o->hold_back > 0 ? o->hold_back : 0.2);
    add_option(t, "--hold-back", text);
}

/* One line that is rewritten; a file gets only a line for each run, from the log. */
static bool on_sweep_progress(void *user, const ft_progress *p)
{
    progress_state *s = (progress_state *)user;
    double now = seconds_now();
    if (!s->o->quiet && s->terminal && now - s->last > 0.1) {
        if (p->preparing) fprintf(stderr, "\r  frozen layers %d/%d\033[K\r", p->step, p->steps);
        else fprintf(stderr, "\r  epoch %d/%d step %d/%d  loss %.4f\033[K\r", p->epoch + 1, p->epochs, p->step, p->steps,
                     p->loss);
        s->last = now;
    }
    return !interrupted;
}

static void print_swept(const options *o, const sweep_table *t, const scored *s, double seconds)
{
    if (!o->json) {
        print_table(t);
        if (o->val) print_score(s);
        printf("%s written, %.1f s\n", o->out, seconds);
        return;
    }
    printf("{");
    if (o->val) {
        print_score_json(s);
        printf(", ");
    }
    print_settings_json(t);
    printf(", \"choice\": ");
    print_json_text(t->result.choice);
    printf(", \"seconds\": %.3f, \"out\": ", t->result.seconds);
    print_json_text(o->out);
    printf("}\n");
}

/* Saves the winner, scores it on --val, once, and says what was found. */
static int finish_sweep(ft_model *m, const options *o, sweep_table *table, ft_data *data, ft_data *val, double start)
{
    ft_save_options save;
    scored on_val;
    page what;
    bool written;
    memset(&save, 0, sizeof save);
    memset(&what, 0, sizeof what);
    (void)calibrated(m, o, data);
    if (ft_save(m, o->out, save) == FT_OK) {
        if (o->val && !val) val = open_folder(m, o, o->val, true);
        if (o->val) score(m, o, val, &on_val);
        if (ft_error(m)) fprintf(stderr, "%s was written, but not scored\n", o->out);
    }
    if (ft_error(m)) return report(m);
    print_swept(o, table, &on_val, seconds_now() - start);
    what.choice = table->result.choice;
    what.scored = o->val ? &on_val : NULL;
    what.folder = folder_of_pictures(m, o, o->val);
    what.seconds = table->result.seconds;
    what.sweep = table;
    written = write_plot(o, table);
    written = write_report(m, o, &what) && written;
    if (o->val) free(on_val.confusion);
    ft_destroy(m);
    return written ? DONE : FAILED;
}

static int sweep_and_save(const options *o, sweep_table *table)
{
    double start = seconds_now();
    char state[4096], earlier[4096 + 16];
    ft_augmentation views;
    progress_state progress;
    sweep_lists lists;
    ft_sweep_options how;
    ft_data *data, *val;
    ft_model *m;
    int status;
    memset(&progress, 0, sizeof progress);
    progress.o = o;
    progress.terminal = isatty(2) != 0;
    if (!o->data || !o->out) return usage("sweep needs --data and --out", "");
    if (!read_augmentation(o, &views) || !read_lists(o, &lists)) return USAGE;
    if (!o->model && !o->words && !is_text(o->data)) return usage("pictures need --model: ", o->data);
    snprintf(state, sizeof state, "%s.sweep", o->out);
    snprintf(earlier, sizeof earlier, "%s.earlier", state);
    if (!can_write(o) || !suits_val(o) || !can_write_report(o)) return FAILED;
    status = open_to_train(o, &m);
    if (status != DONE) return status;
    open_training(m, o, &data, &val);
    if (ft_error(m)) return report(m);
    if (!keeps_labels(m, o, data) || !has_worst(o, data) || !can_calibrate(m, o, data)) {
        ft_destroy(m);
        return USAGE;
    }
    if (!can_save(m, o)) return failed(m);
    if (o->layer_decay > 0) ft_decay_layers(m, (float)o->layer_decay);
    if (!o->resume) set_aside(o, state, earlier);
    how = sweep_options(o, &lists, &views, &progress, table);
    how.finetune.progress = on_sweep_progress;
    table->result = ft_sweep(m, data, state, how);
    if (!o->resume) bring_back(state, earlier, ft_error(m) != FT_OK);
    if (ft_error(m)) return report(m);
    if (table->result.stopped) {
        complain("stopped; the same command with --resume continues from %s", state);
        return failed(m);
    }
    make_command(o, table);
    status = finish_sweep(m, o, table, data, val, start);
    if (status == DONE && !table->result.timed_out) remove(state);
    return status;
}

static int sweep(const options *o)
{
    sweep_table table;
    int status;
    memset(&table, 0, sizeof table);
    status = sweep_and_save(o, &table);
    free(table.rows);
    return status;
}
