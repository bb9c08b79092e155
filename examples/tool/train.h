/* train.h - the verbs train and eval.
   Part of examples/finetune.c. */

static ft_finetune_options train_options(const options *o, const ft_augmentation *views, const char *checkpoint,
                                         progress_state *progress, curves *searches)
{
    ft_finetune_options f;
    memset(&f, 0, sizeof f);
    f.epochs = o->epochs;
    f.most_steps = o->max_steps;
    f.batch_size = o->batch_size;
    f.learning_rate = (float)o->learning_rate;
    f.freeze = o->freeze;
    f.head_only = o->head_only;
    f.loss = o->loss;
    f.frozen_type = keeps_types(o) ? FT_F32 : frozen_type(o);
    f.hold_back = (float)o->hold_back;
    f.patience = o->patience;
    f.metric = followed_metric(o);
    f.checkpoint = checkpoint;
    f.checkpoint_steps = o->checkpoint_steps;
    f.augmentation = *views;
    f.mixup = (float)o->mixup;
    f.cutmix = (float)o->cutmix;
    f.balanced = o->balanced && !strcmp(o->balanced, "loss");
    f.balanced_sampling = o->balanced && !strcmp(o->balanced, "sampling");
    f.progress = on_progress;
    f.progress_user = progress;
    f.optimizer = o->optimizer;
    f.schedule = o->schedule;
    f.accumulate = o->accumulate;
    f.ema = (float)o->ema;
    f.swa = o->swa;
    f.class_means = o->class_means;
    f.find_flip = o->find_flip;
    f.last_block = o->last_block;
    f.average_start = o->average_start;
    f.find_rate = o->find_rate;
    if (o->find_rate) f.curve = keep_curve;
    f.curve_user = searches;
    return f;
}

static ft_lora_options lora_options(const options *o)
{
    ft_lora_options lora;
    memset(&lora, 0, sizeof lora);
    lora.rank = o->lora;
    lora.alpha = (float)o->lora_alpha;
    lora.dropout = (float)o->lora_dropout;
    lora.dora = o->dora;
    return lora;
}

static void score(ft_model *m, const options *o, ft_data *data, scored *s)
{
    bool has_classes = ft_class_count(m) > 0 && ft_data_task(data) != FT_TASK_EMBEDDINGS;
    ft_evaluate_options how;
    memset(&how, 0, sizeof how);
    memset(s, 0, sizeof *s);
    how.batch_size = o->batch_size;
    how.mirrored = o->mirrored;
    s->classes = !is_language_model(m);
    s->data = data;
    s->lists_mistakes = reads_text(m, o);
    if (has_classes && !has_step_outputs(m) && (s->lists_mistakes || o->report)) {
        s->mistakes.most = !s->lists_mistakes ? 24 : !is_given(o, "--worst") ? 5
            : o->worst > MOST_MISTAKES ? MOST_MISTAKES : o->worst;
        how.sample = note_mistake;
        how.sample_user = &s->mistakes;
    }
    if (o->report && has_classes) {
        size_t classes = (size_t)ft_class_count(m);
        s->confusion = (int *)calloc(classes * classes, sizeof *s->confusion);
        how.confusion = s->confusion;
        how.confusion_count = s->confusion ? classes * classes : 0;
    }
    if (ft_data_task(data) != FT_TASK_EMBEDDINGS && (gives_number(m) || !has_step_outputs(m)))
        how.metrics = &s->metrics;
    s->result = ft_evaluate(m, data, how);
}

/* Are there whole texts among whose mistakes --worst can choose? Prints that there are not. */
static bool has_worst(const options *o, const ft_data *data)
{
    if (!is_given(o, "--worst") || ft_data_task(data) != FT_TASK_TOKENS) return true;
    usage("--worst has no effect here: it is for texts with one class, not for words", "");
    return false;
}

static void print_score(const scored *s)
{
    if (s->classes) print_evaluation(&s->result);
    else printf("%.4f nats a token, perplexity %.2f, next token right %.2f %% of %d\n",
                s->result.loss, exp(s->result.loss), 100 * s->result.accuracy, s->result.total);
    print_metrics(&s->metrics);
    if (s->lists_mistakes) print_mistakes(s->data, &s->mistakes, false);
}

static void print_score_json(const scored *s)
{
    print_evaluation_json(&s->result);
    if (!s->classes) printf(", \"perplexity\": %.6f", exp(s->result.loss));
    print_metrics_json(&s->metrics);
    if (s->lists_mistakes && s->mistakes.count > 0) print_mistakes(s->data, &s->mistakes, true);
}

/* Can a temperature be fitted at the end? Prints, before hours of work, why not. */
static bool can_calibrate(const ft_model *m, const options *o, const ft_data *data)
{
    const char *last = ft_node_operator(m, ft_output(m));
    if (!o->calibrate || ft_error(m)) return true;
    if (ft_data_task(data) == FT_TASK_CLASSIFICATION && last && strcmp(last, "softmax") != 0) return true;
    usage("--calibrate has no effect here: it is for networks that give the logits of one class for each sample",
          "");
    return false;
}

/* Fits the temperature, for --calibrate. */
static ft_calibration calibrated(ft_model *m, const options *o, ft_data *data)
{
    ft_calibrate_options how;
    ft_calibration none;
    memset(&how, 0, sizeof how);
    memset(&none, 0, sizeof none);
    how.hold_back = (float)o->hold_back;
    how.batch_size = o->batch_size;
    return o->calibrate ? ft_calibrate(m, data, how) : none;
}

static void print_held_back(const ft_fit_result *r, const ft_calibration *c)
{
    if (r->metric != FT_METRIC_AUTO)
        printf("held back: %s %.4f at epoch %d\n", ft_metric_name(r->metric), r->held_back_metric,
               r->best_epoch + 1);
    if (c->fitted)
        printf("temperature %.4g, fitted to %d held-back samples: loss %.4f, was %.4f; calibration error %.4f,"
               " was %.4f\n", c->temperature, c->samples, c->loss_after, c->loss_before, c->error_after,
               c->error_before);
}

static void print_held_back_json(const ft_fit_result *r, const ft_calibration *c)
{
    if (r->metric != FT_METRIC_AUTO) {
        printf(", \"held_back\": {\"metric\": \"%s\", \"epoch\": %d, \"value\": ", ft_metric_name(r->metric),
               r->best_epoch + 1);
        printf(isnan(r->held_back_metric) ? "null}" : "%.9g}", r->held_back_metric);
    }
    if (c->fitted)
        printf(", \"calibration\": {\"temperature\": %.9g, \"samples\": %d, \"loss_before\": %.9g,"
               " \"loss_after\": %.9g, \"error_before\": %.9g, \"error_after\": %.9g}", c->temperature,
               c->samples, c->loss_before, c->loss_after, c->error_before, c->error_after);
}

static void print_trained(const options *o, const ft_finetune_result *r, const ft_calibration *c,
                          const scored *s, double seconds)
{
    if (!o->json) {
        printf("%s\n", shown(r->choice));
        print_held_back(&r->fit, c);
        if (o->val) print_score(s);
        printf("%s written, %.1f s", o->out, seconds);
        if (r->fit.before.tensors > 0)
            printf("; %d frozen tensors, digest %016llx before and after", r->fit.before.tensors,
                   (unsigned long long)r->fit.before.frozen);
        printf("\n");
        return;
    }
    printf("{");
    if (o->val) {
        print_score_json(s);
        printf(", ");
    }
    printf("\"choice\": ");
    print_json_text(r->choice);
    print_held_back_json(&r->fit, c);
    printf(", \"loss\": %.6f, \"frozen_digest\": \"%016llx\", \"seconds\": %.3f, \"out\": ",
           r->fit.loss, (unsigned long long)r->fit.after.frozen, seconds);
    print_json_text(o->out);
    printf("}\n");
}

/* Checked before hours of work, for --val. Prints what is wrong. */
static bool suits_val(const options *o)
{
    return !o->val
        || (can_read(o->val) && same_folders(o->data, o->val, is_text(o->val) || is_arrays(o->val)));
}

/* The folder of the pictures that were scored; NULL: they are texts or arrays, or there are none. */
static const char *folder_of_pictures(const ft_model *m, const options *o, const char *path)
{
    return !path || reads_text(m, o) || is_arrays(path) ? NULL : path;
}

/* The network of --model or, for texts, an empty one. DONE, or what the tool ends with: the reason was printed. */
static int open_to_train(const options *o, ft_model **to)
{
    ft_model *m = *to = o->model ? open_model(o) : create(o);
    if (!m) return FAILED;
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    set_max_length(m, o);
    return says_vector(m, o) && (!o->labels || name_classes(m, o)) ? DONE : failed(m);
}

/* Opens the data and, for texts, those of --val, so that errors in their labels show up
   before hours of work. Pictures of --val are opened when they are scored, since they take memory
   until then; the names of their folders were compared already. */
static void open_training(ft_model *m, const options *o, ft_data **data, ft_data **val)
{
    *val = NULL;
    *data = reads_text(m, o) ? open_text_training(m, o) : open_folder(m, o, o->data, false);
    if (o->val && reads_text(m, o) && !ft_error(m)) *val = open_texts(m, o, o->val, true, *data);
}

/* ---- The other candidate where a classifier of texts starts from random weights ---- */

/* Is a bag of words tried, too? Held-back texts say which is better, so there must be some. */
static bool tries_bag(const ft_model *m, const options *o, const ft_data *data)
{
    return !o->model && !o->network && o->hold_back > 0 && !o->metric && !o->loss && !o->teacher
        && reads_text(m, o) && ft_data_task(data) == FT_TASK_CLASSIFICATION && ft_class_count(m) > 1;
}

typedef struct trained { ft_model *m; ft_data *data, *val; ft_finetune_result result; } trained;

/* Puts a bag of words in the place of what was trained, if more of the held-back texts are right. `o`: with that
   network; the models go on using it. */
static void try_bag(trained *t, options *o)
{
    trained bag, worse = *t;
    ft_finetune_options how;
    const ft_fit_result *one = &t->result.fit, *other = &bag.result.fit;
    char choice[sizeof t->result.choice];
    memset(&how, 0, sizeof how);
    how.hold_back = (float)o->hold_back;
    o->network = "bag_of_words";
    o->quiet = true; /* all was said of the data */
    bag.m = create(o);
    if (!bag.m) return;
    open_vocabulary(bag.m, o);
    set_max_length(bag.m, o);
    open_training(bag.m, o, &bag.data, &bag.val);
    bag.result = ft_finetune(bag.m, bag.data, how);
    if (ft_error(bag.m) == FT_OK && other->held_back_total == one->held_back_total) {
        if (other->held_back_correct > one->held_back_correct) {
            snprintf(choice, sizeof choice, "%.150s: %d of %d held-back texts are right, and %d with an LSTM",
                     bag.result.choice, other->held_back_correct, other->held_back_total, one->held_back_correct);
            *t = bag;
        } else {
            snprintf(choice, sizeof choice, "%.150s; %d of %d held-back texts are right, and %d with a bag of words",
                     t->result.choice, one->held_back_correct, one->held_back_total, other->held_back_correct);
            worse = bag;
        }
        memcpy(t->result.choice, choice, sizeof choice);
    } else worse = bag;
    ft_destroy(worse.m);
}

/* The network of --teacher; NULL with an error. */
static ft_model *open_teacher(const options *o)
{
    ft_load_options load;
    ft_model *teacher = create(o);
    memset(&load, 0, sizeof load);
    if (!teacher) return NULL;
    if (ft_load(teacher, o->teacher, load) == FT_OK) return teacher;
    complain("%s", ft_error_text(teacher));
    ft_destroy(teacher);
    return NULL;
}

/* Has the network a score for just the data's classes, so that its accuracy means something? */
static bool has_classes_of(const ft_model *m, const ft_data *data)
{
    int count = ft_data_classes(data), i;
    if (count < 2 || ft_class_count(m) != count) return false;
    for (i = 0; i < count; ++i) {
        const char *name = ft_class_name(m, i), *other = ft_data_class_name(data, i);
        if (!name || !other || strcmp(name, other) != 0) return false;
    }
    return true;
}

static void say_accuracy(ft_model *m, const options *o, ft_data *data, const char *when)
{
    ft_evaluate_options how;
    ft_evaluation e;
    memset(&how, 0, sizeof how);
    how.batch_size = o->batch_size;
    if (o->quiet || ft_error(m) || !has_classes_of(m, data)) return;
    e = ft_evaluate(m, data, how);
    if (ft_error(m)) return;
    fprintf(stderr, "%s: %.2f %% of %d right (95 %%: %.2f to %.2f)\n", when, 100 * e.accuracy, e.total,
            100 * e.low, 100 * e.high);
}

/* --activation, --where and --recalibrate, and what they do to the accuracy on --data before any
   training: the set chooses nothing. False: nothing is called so. */
static bool change_network(ft_model *m, const options *o, ft_data *data)
{
    ft_activation_options plain;
    ft_recalibrate_options all;
    int count;
    memset(&plain, 0, sizeof plain);
    memset(&all, 0, sizeof all);
    if (!o->activation && !o->recalibrate) return true;
    if (!o->quiet && !ft_error(m) && !has_classes_of(m, data))
        fprintf(stderr, "the network's classes are not the data's: only training shows what the change does\n");
    say_accuracy(m, o, data, "before the change");
    if (o->activation) {
        count = ft_swap_activations(m, o->where ? o->where : "*", o->activation, plain);
        if (!ft_error(m) && count == 0) {
            complain("--where %s: no activation of the network is called so", o->where ? o->where : "*");
            return false;
        }
        if (!ft_error(m) && !o->quiet)
            fprintf(stderr, "%d activation%s %s %s now\n", count, count == 1 ? "" : "s",
                    count == 1 ? "is" : "are", o->activation);
        say_accuracy(m, o, data, "with them");
    }
    if (!o->recalibrate) return true;
    all.batch_size = o->batch_size;
    ft_unfreeze(m, "*"); /* the file may say what an earlier training froze; ft_finetune chooses anew */
    count = ft_recalibrate(m, data, all);
    if (!ft_error(m) && count == 0) {
        complain("--recalibrate has no effect here: the network has no batch norm");
        return false;
    }
    if (!ft_error(m) && !o->quiet)
        fprintf(stderr, "%d batch norm%s recalibrated\n", count, count == 1 ? "" : "s");
    say_accuracy(m, o, data, "with new statistics");
    return true;
}

/* Checked before hours of work: can the network be saved as --out? Prints why not. */
static bool can_save(ft_model *m, const options *o)
{
    ft_save_options save;
    memset(&save, 0, sizeof save);
    if (ft_check_save(m, o->out, save) == FT_OK) return true;
    complain("%s", ft_error_text(m));
    return false;
}

/* With the data open: what may still be wrong, which is printed, and what changes the network before
   it is trained. DONE, or what the tool ends with. */
static int prepare(ft_model *m, const options *o, ft_data *data, ft_model **teacher, history *log)
{
    if (!keeps_labels(m, o, data) || !has_worst(o, data) || !can_calibrate(m, o, data)) return USAGE;
    if (!reads_text(m, o) && !is_arrays(o->data) && !o->quiet) say_what_is_odd(o, data);
    if (!change_network(m, o, data)) return USAGE;
    if (o->teacher && !(*teacher = open_teacher(o))) return FAILED;
    if (o->lora) ft_lora(m, o->lora_layers, lora_options(o));
    if (!can_save(m, o)) return FAILED;
    if (o->pack) ft_set_packed(m, true);
    if (!open_log(log, o)) return FAILED;
    if (o->layer_decay > 0) ft_decay_layers(m, (float)o->layer_decay);
    return DONE;
}

/* Moves an earlier run's checkpoint aside, so that it is not used by this run. It is deleted
   only when this run has its own or has ended: a typo may be why this run does not continue from
   it. */
static void set_aside(const options *o, const char *checkpoint, const char *earlier)
{
    if (rename(checkpoint, earlier) == 0 && !o->quiet)
        fprintf(stderr, "%s of an earlier run will be removed; --resume would have continued from it\n",
                checkpoint);
}

static void bring_back(const char *checkpoint, const char *earlier, bool failed)
{
    if (!failed || access(checkpoint, F_OK) == 0) remove(earlier);
    else if (rename(earlier, checkpoint) == 0)
        fprintf(stderr, "%s of the earlier run is kept\n", checkpoint);
}

static int train_and_log(const options *o, progress_state *progress)
{
    double start = seconds_now();
    ft_augmentation views;
    curves searches;
    bool plotted;
    char checkpoint[4096], earlier[4096 + 16];
    ft_finetune_result result;
    ft_calibration calibration;
    scored on_val;
    page what;
    bool reported;
    ft_save_options save;
    ft_data *data, *val;
    ft_model *m, *teacher = NULL;
    ft_finetune_options how;
    options with_bag = *o; /* for a model that lives as long */
    int status;
    memset(&searches, 0, sizeof searches);
    searches.o = o;
    memset(&save, 0, sizeof save);
    if (!o->data || !o->out) return usage("train needs --data and --out", "");
    if (!read_augmentation(o, &views)) return USAGE;
    if (!o->model && !o->words && !is_text(o->data))
        return usage("pictures need --model, and this is not a text (.tsv, .csv, .jsonl, .conll, .txt, or a"
                     " folder of .txt files for each class): ", o->data);
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", o->out);
    if (!can_write(o) || !suits_val(o) || !can_write_adapter(o) || !can_write_report(o)) return FAILED;
    status = open_to_train(o, &m);
    if (status != DONE) return status;
    progress->samples_are = reads_text(m, o) ? "texts" : is_arrays(o->data) ? "samples" : "images";
    if (o->resume && access(checkpoint, R_OK) != 0 && !o->quiet)
        fprintf(stderr, "%s was not found: the run starts from the beginning\n", checkpoint);
    snprintf(earlier, sizeof earlier, "%s.earlier", checkpoint);
    if (!o->resume) set_aside(o, checkpoint, earlier);
    open_training(m, o, &data, &val);
    status = prepare(m, o, data, &teacher, &progress->history);
    if (status != DONE) {
        if (!o->resume) bring_back(checkpoint, earlier, true);
        ft_destroy(m);
        return status;
    }
    how = train_options(o, &views, checkpoint, progress, &searches);
    how.teacher = teacher;
    result = ft_finetune(m, data, how);
    ft_destroy(teacher);
    plotted = write_curves(&searches);
    if (progress->line_open) fprintf(stderr, "\n");
    if (!o->resume) bring_back(checkpoint, earlier, ft_error(m) != FT_OK);
    if (ft_error(m)) return report(m);
    if (result.fit.stopped) {
        complain("stopped; the same command with --resume continues from %s", checkpoint);
        ft_destroy(m);
        return FAILED;
    }
    if (tries_bag(m, o, data)) {
        trained t = {m, data, val, result};
        try_bag(&t, &with_bag);
        m = t.m;
        data = t.data;
        val = t.val;
        result = t.result;
    }
    if (o->pack) ft_set_packed(m, false); /* for what is written */
    calibration = calibrated(m, o, data);
    save_adapter(m, o);
    if (ft_save(m, o->out, save) == FT_OK) {
        remove(checkpoint);
        if (o->val && !val) val = open_folder(m, o, o->val, true);
        if (o->val && o->pack) ft_set_packed(m, true);
        if (o->val) score(m, o, val, &on_val);
        if (ft_error(m)) fprintf(stderr, "%s was written, but not scored\n", o->out);
    }
    if (ft_error(m)) return report(m);
    if (!plotted) return failed(m);
    print_trained(o, &result, &calibration, &on_val, seconds_now() - start);
    what.choice = result.choice;
    what.history = &progress->history;
    what.scored = o->val ? &on_val : NULL;
    what.folder = folder_of_pictures(m, o, o->val);
    what.seconds = seconds_now() - start;
    reported = write_report(m, o, &what);
    if (o->val) free(on_val.confusion);
    ft_destroy(m);
    return reported ? DONE : FAILED;
}

static int train(const options *o)
{
    progress_state progress;
    int status;
    memset(&progress, 0, sizeof progress);
    progress.o = o;
    progress.terminal = isatty(2) != 0;
    status = train_and_log(o, &progress);
    close_history(&progress.history);
    return status;
}

/* ---- eval ---- */

static int evaluate(const options *o)
{
    double start = seconds_now();
    scored s;
    page what;
    bool reported;
    ft_model *m;
    ft_data *data;
    if (!o->model || !o->data) return usage("eval needs --model and --data", "");
    if (!can_write_report(o) || !(m = open_model(o))) return FAILED;
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    set_max_length(m, o);
    if (!says_vector(m, o)) return failed(m);
    if (!name_classes(m, o)) return failed(m);
    open_vocabulary(m, o);
    data = reads_text(m, o) ? open_texts(m, o, o->data, true, NULL) : open_folder(m, o, o->data, true);
    if (!reads_text(m, o) && !is_arrays(o->data) && !fits_unnamed(m, data, o->data)) return failed(m);
    if (!has_worst(o, data)) return unsuited(m);
    score(m, o, data, &s);
    if (ft_error(m)) return report(m);
    if (o->json) {
        printf("{");
        print_score_json(&s);
        printf("}\n");
    } else print_score(&s);
    memset(&what, 0, sizeof what);
    what.scored = &s;
    what.folder = folder_of_pictures(m, o, o->data);
    what.seconds = seconds_now() - start;
    reported = write_report(m, o, &what);
    free(s.confusion);
    ft_destroy(m);
    return reported ? DONE : FAILED;
}
