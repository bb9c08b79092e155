/* history.h - what each epoch of a training gave: for --log-csv and --report.
   Part of examples/finetune.c. */

typedef struct epoch_record {
    char stage[32];
    int epoch;              /* from 1 */
    double learning_rate;   /* of its last step */
    double loss, accuracy, held_back_loss, held_back_accuracy, held_back_metric; /* NaN: there is none */
    ft_metric metric;       /* FT_METRIC_AUTO: nothing was held back */
    double seconds;         /* since the run began */
} epoch_record;

typedef struct history {
    epoch_record *epochs;
    int count, room;
    double start, learning_rate;
    FILE *csv;              /* --log-csv; NULL: none */
} history;

/* Opens --log-csv; a run that continues adds to the file. Prints why it cannot. */
static bool open_log(history *h, const options *o)
{
    bool begun = o->resume && o->log_csv && access(o->log_csv, F_OK) == 0;
    if (!o->log_csv) return true;
    h->csv = fopen(o->log_csv, begun ? "a" : "w");
    if (!h->csv) {
        complain("--log-csv %s: cannot be written: %s", o->log_csv, strerror(errno));
        return false;
    }
    if (!begun)
        fprintf(h->csv, "stage,epoch,learning_rate,loss,accuracy,held_back_loss,held_back_accuracy,metric,"
                        "held_back_metric,seconds\n");
    return fflush(h->csv) == 0;
}

static void close_history(history *h)
{
    if (h->csv) fclose(h->csv);
    free(h->epochs);
    memset(h, 0, sizeof *h);
}

/* A number, and nothing where there is none. */
static void write_csv_number(FILE *to, double number, bool there)
{
    if (there) fprintf(to, ",%.9g", number);
    else fprintf(to, ",");
}

static void write_csv_line(FILE *to, const epoch_record *e)
{
    bool held = e->metric != FT_METRIC_AUTO;
    fprintf(to, "%s,%d,%.9g,%.9g", e->stage, e->epoch, e->learning_rate, e->loss);
    write_csv_number(to, e->accuracy, !isnan(e->accuracy));
    write_csv_number(to, e->held_back_loss, held);
    write_csv_number(to, e->held_back_accuracy, !isnan(e->held_back_accuracy));
    fprintf(to, ",%s", held ? ft_metric_name(e->metric) : "");
    write_csv_number(to, e->held_back_metric, !isnan(e->held_back_metric));
    fprintf(to, ",%.3f\n", e->seconds);
    fflush(to);
}

/* Notes a step's rate, and at the end of an epoch what it gave. */
static void note_epoch(history *h, const ft_progress *p, double now)
{
    bool held = p->metric != FT_METRIC_AUTO;
    epoch_record *e;
    if (h->start <= 0) h->start = now;
    if (p->batch > 0) h->learning_rate = (double)p->learning_rate;
    if (!p->epoch_done) return;
    if (h->count == h->room) {
        int room = h->room ? 2 * h->room : 64;
        epoch_record *more = (epoch_record *)realloc(h->epochs, (size_t)room * sizeof *more);
        if (!more) return;
        h->epochs = more;
        h->room = room;
    }
    e = &h->epochs[h->count++];
    memset(e, 0, sizeof *e);
    snprintf(e->stage, sizeof e->stage, "%s", p->stage);
    e->epoch = p->epoch + 1;
    e->learning_rate = h->learning_rate;
    e->loss = p->loss;
    e->accuracy = p->accuracy >= 0 ? p->accuracy : NAN;
    e->held_back_loss = held ? p->held_back_loss : NAN;
    e->held_back_accuracy = held && p->held_back_accuracy >= 0 ? p->held_back_accuracy : NAN;
    e->held_back_metric = held ? p->held_back_metric : NAN;
    e->metric = p->metric;
    e->seconds = now - h->start;
    if (h->csv) write_csv_line(h->csv, e);
}
