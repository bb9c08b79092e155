#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "graph/forward_backward.h"
#include "training/prefix_cache.h"
#include "training/resume.h"

/* =============================================================================================
   [SECTION] public/sweep_state: The settings of a sweep, their scores, and the file that has them
   What a sweep decides follows from the scores of the runs alone, and the file has these, so that a
   sweep that was killed goes on as if it had not been. A run's place in a rung is its checkpoint.
   ============================================================================================= */
enum { FT__MOST_RUNGS = 12, FT__MOST_SETTINGS = 10000, FT__SWEEP_FORMAT = 1 };

typedef struct ft__sweep_run { /* one setting with one seed */
    int rungs;              /* that it finished */
    bool failed;
    double seconds;
    size_t memory;
    float loss[FT__MOST_RUNGS]; /* of the held-back samples after each */
} ft__sweep_run;

typedef struct ft__sweep {
    ft_model *m;
    ft_data *data;
    const char *path;
    ft_sweep_options o;     /* with the defaults */
    int settings, seeds;
    int *grid;              /* [settings]: each one's number among all combinations */
    int *order, *alive;     /* [settings]: room for sorting; those that take part in this rung */
    int epochs;             /* of a setting that goes on to the end */
    int rungs, at[FT__MOST_RUNGS]; /* the epochs after which there is a cut, the last one the end */
    int kept[FT__MOST_RUNGS]; /* settings that take part in each rung; 0: not decided yet */
    int *held, *held_count; /* [seeds][most], [seeds]: the samples that a seed holds back */
    int most, width;        /* all samples; the most that a seed holds back */
    ft__sweep_run *runs;    /* [settings][seeds] */
    float *scores;          /* [settings][seeds][rungs][width]: 1 right, 0 wrong, or the squared
                               error; -1: it could not be read */
    bool regression;
    uint64_t key;           /* a hash of what must be the same to continue */
    double before, start;   /* seconds of its earlier parts; when this part began */
    double written;         /* when the file was written last */
    ft__lent lent;          /* to the runs of one group ... */
    int group;              /* ... of settings with the same frozen layers; -1: none yet */
    bool ends;              /* the winner's run: time does not matter */
    bool stopped, late;     /* by progress; the time is over */
} ft__sweep;

/* ---- The settings ---- */

static int ft__at_least_one(int count) { return count > 0 ? count : 1; }

/* Takes the next digit, of so many, from the number of a combination. */
static int ft__sweep_digit(int *number, int count)
{
    int digit = *number % ft__at_least_one(count);
    *number /= ft__at_least_one(count);
    return digit;
}

static const char *ft__sweep_entry(const char *const *list, int count, int *number)
{
    int digit = ft__sweep_digit(number, count);
    return count > 0 ? list[digit] : NULL;
}

/* The choices of a setting. Those that share frozen layers follow one another. */
static void ft__sweep_choices(const ft__sweep *s, int setting, ft_sweep_row *row)
{
    const ft_sweep_options *o = &s->o;
    int number = s->grid[setting], digit = ft__sweep_digit(&number, o->learning_rate_count);
    row->learning_rate = o->learning_rate_count > 0 ? o->learning_rates[digit] : 0;
    row->optimizer = ft__sweep_entry(o->optimizers, o->optimizer_count, &number);
    row->loss = ft__sweep_entry(o->losses, o->loss_count, &number);
    row->freeze = ft__sweep_entry(o->freeze, o->freeze_count, &number);
    row->activation = ft__sweep_entry(o->activations, o->activation_count, &number);
}

/* The settings of one group differ in rate and optimiser only. */
static int ft__sweep_group(const ft__sweep *s, int setting)
{
    return s->grid[setting] / ft__at_least_one(s->o.learning_rate_count)
        / ft__at_least_one(s->o.optimizer_count);
}

/* "learning rate 0.001, freeze "layer1*", activation gelu" */
static const char *ft__sweep_name(const ft_sweep_row *row, char *text, size_t size)
{
    const struct { const char *name, *value, *quote; } parts[] = {
        {"freeze", row->freeze, "\""}, {"activation", row->activation, ""},
        {"loss", row->loss, ""}, {"optimizer", row->optimizer, ""}};
    size_t at, i;
    text[0] = 0;
    if (row->learning_rate > 0)
        snprintf(text, size, "learning rate %g", (double)row->learning_rate);
    for (i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
        const char *value = parts[i].value;
        at = strlen(text);
        if (!value) continue;
        if (!*value && !*parts[i].quote) value = "as it is";
        snprintf(text + at, size - at, "%s%s %s%.60s%s", at ? ", " : "", parts[i].name,
                 parts[i].quote, value, parts[i].quote);
    }
    if (!text[0]) snprintf(text, size, "the only setting");
    return text;
}

static ft__sweep_run *ft__sweep_run_of(const ft__sweep *s, int setting, int seed)
{
    return &s->runs[(size_t)setting * (size_t)s->seeds + (size_t)seed];
}

static float *ft__sweep_scores(const ft__sweep *s, int setting, int seed, int rung)
{
    size_t run = (size_t)setting * (size_t)s->seeds + (size_t)seed;
    return s->scores + (run * (size_t)s->rungs + (size_t)rung) * (size_t)s->width;
}

/* ---- Which is better ---- */

/* The rungs that all runs of a setting finished. */
static int ft__sweep_depth(const ft__sweep *s, int setting)
{
    int depth = s->rungs, seed;
    for (seed = 0; seed < s->seeds; ++seed)
        if (ft__sweep_run_of(s, setting, seed)->rungs < depth)
            depth = ft__sweep_run_of(s, setting, seed)->rungs;
    return depth;
}

static bool ft__sweep_failed(const ft__sweep *s, int setting)
{
    int seed;
    for (seed = 0; seed < s->seeds; ++seed)
        if (ft__sweep_run_of(s, setting, seed)->failed) return true;
    return false;
}

/* The mean over the seeds of a run's mean score after a rung, and of its loss. */
static double ft__sweep_value(const ft__sweep *s, int setting, int rung, double *loss)
{
    double sum = 0;
    int seed, i;
    *loss = 0;
    for (seed = 0; seed < s->seeds; ++seed) {
        const float *score = ft__sweep_scores(s, setting, seed, rung);
        double of_seed = 0;
        int read = 0;
        for (i = 0; i < s->held_count[seed]; ++i) {
            if (score[i] < 0) continue;
            of_seed += (double)score[i];
            read += 1;
        }
        sum += of_seed / (read > 0 ? read : 1);
        *loss += (double)ft__sweep_run_of(s, setting, seed)->loss[rung] / s->seeds;
    }
    return sum / s->seeds;
}

typedef struct ft__sweep_ranks { const ft__sweep *s; int rungs; } ft__sweep_ranks;

/* Whether a setting is better than another: it went further, or after as many epochs has the better
   score, or of equal scores the lower loss. */
static bool ft__sweep_better(const void *context, int a, int b)
{
    const ft__sweep_ranks *r = (const ft__sweep_ranks *)context;
    const ft__sweep *s = r->s;
    int deep = ft__sweep_depth(s, a), other = ft__sweep_depth(s, b);
    double value, against, loss, lost;
    if (deep > r->rungs) deep = r->rungs;
    if (other > r->rungs) other = r->rungs;
    if (deep != other) return deep > other;
    if (deep == 0) return a < b;
    if (ft__sweep_failed(s, a) != ft__sweep_failed(s, b)) return ft__sweep_failed(s, b);
    value = ft__sweep_value(s, a, deep - 1, &loss);
    against = ft__sweep_value(s, b, deep - 1, &lost);
    if (value != against) return s->regression ? value < against : value > against;
    return loss != lost ? loss < lost : a < b;
}

/* Sorts the settings into order[], the best first, by what they were after at most so many
   rungs. */
static void ft__sweep_sort(const ft__sweep *s, int rungs, int *order)
{
    ft__sweep_ranks ranks;
    ranks.s = s;
    ranks.rungs = rungs;
    ft__sort_order(order, s->settings, ft__sweep_better, &ranks);
}

/* ---- The rungs ---- */

/* Sets at[] for so many settings and epochs; returns the number of rungs: as many as leave more
   than one setting for the last, and an epoch for the first. */
static int ft__sweep_rungs(int settings, int cut, int epochs, int at[FT__MOST_RUNGS])
{
    int rungs = 1, shorter = 1, left = settings, i;
    if (cut > 1)
        for (left = (left + cut - 1) / cut; left > 1 && rungs < FT__MOST_RUNGS
             && shorter <= epochs / cut; left = (left + cut - 1) / cut) {
            rungs += 1;
            shorter *= cut;
        }
    for (i = 0; i < rungs; ++i) {
        at[i] = epochs / shorter;
        shorter /= cut > 1 ? cut : 1;
    }
    return rungs;
}

/* The epochs that all runs of a seed train together. */
static double ft__sweep_work(int settings, int cut, int epochs)
{
    int at[FT__MOST_RUNGS], rungs = ft__sweep_rungs(settings, cut, epochs, at), i;
    double work = 0;
    for (i = 0; i < rungs; ++i) {
        work += (double)settings * (at[i] - (i > 0 ? at[i - 1] : 0));
        if (i + 1 < rungs) settings = (settings + cut - 1) / cut;
    }
    return work;
}

/* Makes room for the scores, once the epochs are known. */
static ft_status ft__sweep_room(ft__sweep *s)
{
    size_t runs = (size_t)s->settings * (size_t)s->seeds, numbers;
    s->rungs = ft__sweep_rungs(s->settings, s->o.cut, s->epochs, s->at);
    s->kept[0] = s->settings;
    if (!ft__multiply(runs * (size_t)s->rungs, (size_t)s->width, &numbers))
        numbers = SIZE_MAX / 8;
    s->scores = (float *)ft__allocate(&s->m->context, numbers + 1, sizeof *s->scores);
    return s->m->context.status;
}

/* ---- The file ---- */

static double ft__sweep_seconds(const ft__sweep *s)
{
    return s->before + ft__clock(&s->m->context) - s->start;
}

static void ft__sweep_write_run(const ft__sweep *s, ft__text *text, int setting, int seed)
{
    const ft__sweep_run *run = ft__sweep_run_of(s, setting, seed);
    int rung, i;
    ft__text_add(text, "{\"setting\":%d,\"seed\":%d,\"failed\":%s,\"memory\":%llu,\"seconds\":",
                 setting, seed, run->failed ? "true" : "false", (unsigned long long)run->memory);
    ft__json_add_float(text, (float)run->seconds);
    ft__text_add(text, ",\"loss\":[");
    for (rung = 0; rung < run->rungs; ++rung) {
        ft__text_add(text, rung ? "," : "");
        ft__json_add_float(text, run->loss[rung]);
    }
    ft__text_add(text, "],\"scores\":[");
    for (rung = 0; rung < run->rungs; ++rung) {
        const float *score = ft__sweep_scores(s, setting, seed, rung);
        ft__text_add(text, rung ? ",[" : "[");
        for (i = 0; i < s->held_count[seed]; ++i) {
            ft__text_add(text, i ? "," : "");
            ft__json_add_float(text, score[i]);
        }
        ft__text_add(text, "]");
    }
    ft__text_add(text, "]}");
}

/* Writes what was found so far. */
static ft_status ft__sweep_write(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    ft__text text;
    int i, seed, count = 0;
    memset(&text, 0, sizeof text);
    text.context = c;
    ft__text_add(&text, "{\"sweep\":%d", (int)FT__SWEEP_FORMAT);
    ft__add_hash(&text, "key", s->key);
    ft__text_add(&text, ",\"epochs\":%d,\"seconds\":", s->epochs);
    ft__json_add_float(&text, (float)ft__sweep_seconds(s));
    ft__text_add(&text, ",\"kept\":[");
    for (i = 0; i < s->rungs && s->kept[i] > 0; ++i)
        ft__text_add(&text, "%s%d", i ? "," : "", s->kept[i]);
    ft__text_add(&text, "],\"runs\":[");
    for (i = 0; i < s->settings; ++i)
        for (seed = 0; seed < s->seeds; ++seed) {
            if (ft__sweep_run_of(s, i, seed)->rungs == 0) continue;
            ft__text_add(&text, count++ ? ",\n" : "\n");
            ft__sweep_write_run(s, &text, i, seed);
        }
    ft__text_add(&text, "]}\n");
    if (ft__ok(c)) ft__write_text(c, s->path, text.letters);
    ft__release(c, text.letters);
    s->written = ft__clock(c);
    return c->status;
}

/* Reads a run's scores; false: it is not as such a file has it. */
static bool ft__sweep_read_run(ft__sweep *s, const ft__json *json, int value)
{
    int losses = ft__json_member(json, value, "loss");
    int lists = ft__json_member(json, value, "scores"), rungs = ft__json_count(json, losses), i, j;
    int64_t setting = -1, seed = -1, memory = 0;
    ft__sweep_run *run;
    double number = 0;
    if (!ft__json_int(json, ft__json_member(json, value, "setting"), &setting)
        || !ft__json_int(json, ft__json_member(json, value, "seed"), &seed)
        || setting < 0 || setting >= s->settings || seed < 0 || seed >= s->seeds || rungs < 1
        || rungs > s->rungs || ft__json_count(json, lists) != rungs) return false;
    run = ft__sweep_run_of(s, (int)setting, (int)seed);
    run->failed = ft__json_true(json, ft__json_member(json, value, "failed"));
    ft__json_int(json, ft__json_member(json, value, "memory"), &memory);
    ft__json_double(json, ft__json_member(json, value, "seconds"), &run->seconds);
    run->memory = (size_t)memory;
    for (i = 0; i < rungs; ++i) {
        float *score = ft__sweep_scores(s, (int)setting, (int)seed, i);
        int list = ft__json_element(json, lists, i), count = ft__json_count(json, list);
        int next = ft__json_element(json, list, 0);
        if (count != s->held_count[seed]) return false;
        ft__json_double(json, ft__json_element(json, losses, i), &number);
        run->loss[i] = (float)number;
        for (j = 0; j < count; ++j, next = json->values[next].next) {
            if (!ft__json_double(json, next, &number)) return false;
            score[j] = (float)number;
        }
    }
    run->rungs = rungs;
    return true;
}

/* Takes what an earlier part of the sweep found. */
static ft_status ft__sweep_take(ft__sweep *s, const ft__json *json)
{
    ft__context *c = &s->m->context;
    int kept = ft__json_member(json, 0, "kept"), runs = ft__json_member(json, 0, "runs"), run, i;
    int64_t format = 0, epochs = 0, number = 0;
    bool sound;
    if (!ft__json_int(json, ft__json_member(json, 0, "sweep"), &format))
        return ft__fail(c, FT_FORMAT, "%s: exists, but is not the state of a sweep", s->path);
    if (format != FT__SWEEP_FORMAT || !ft__same_hash(json, 0, "key", s->key))
        return ft__fail(c, FT_INVALID, "%s: is the state of a sweep with another network, other"
                        " data, options or seed, or of another version: remove it, or use the same",
                        s->path);
    sound = ft__json_int(json, ft__json_member(json, 0, "epochs"), &epochs) && epochs >= 1
        && epochs <= 1000000;
    ft__json_double(json, ft__json_member(json, 0, "seconds"), &s->before);
    s->epochs = (int)epochs;
    if (sound && ft__sweep_room(s) != FT_OK) return c->status;
    for (i = 0; sound && i < ft__json_count(json, kept); ++i) {
        sound = i < s->rungs && ft__json_int(json, ft__json_element(json, kept, i), &number)
            && number >= 1 && number <= s->settings;
        if (sound) s->kept[i] = (int)number;
    }
    run = ft__json_element(json, runs, 0);
    for (i = ft__json_count(json, runs); sound && i > 0; --i) {
        sound = ft__sweep_read_run(s, json, run);
        if (sound) run = json->values[run].next;
    }
    if (!sound)
        ft__fail(c, FT_FORMAT, "%s: damaged state of a sweep: remove it to begin again", s->path);
    return c->status;
}

/* Reads the file, if there is one. */
static ft_status ft__sweep_read(ft__sweep *s)
{
    ft__context *c = &s->m->context;
    unsigned char *content;
    ft__json *json;
    size_t bytes = 0;
    if (!ft__file_exists(c, s->path)) return c->status;
    content = ft__read_file(c, s->path, &bytes);
    json = content ? ft__json_parse(c, (const char *)content, bytes) : NULL;
    if (json) ft__sweep_take(s, json);
    else ft__fail(c, FT_FORMAT, "%s: exists, but is not the state of a sweep", s->path);
    ft__json_free(c, json);
    ft__release(c, content);
    return c->status;
}
