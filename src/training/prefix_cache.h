#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "optimizers/schedules.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "formats/graphs.h"
#include "data/feature_files.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/loader.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/entities.h"

/* =============================================================================================
   [SECTION] training/prefix_cache: A run, its samples, and the cache of the frozen prefix
   One run: its samples, and the cache of the frozen prefix. An epoch's order depends only on (seed,
   epoch), a sample's view only on (sample, epoch). So a run that continues from a checkpoint reads
   the same data as one that was never interrupted.
   ============================================================================================= */
typedef struct ft__cache {  /* outputs of the frozen prefix, one row per (sample, view) */
    int *nodes;             /* earlier values that the trained steps read, labels included */
    int node_count;
    size_t row;             /* numbers in a row, and of sequences ... */
    size_t step;            /* ... as many more for each step; 0: there are none */
    size_t *start;          /* [sample][view], of sequences: where the row begins; else NULL */
    int *steps;             /* [sample][view], of sequences: of the row */
    int views;
    float *values;          /* [sample of the data][view][row]; on disk: of one row */
    int *record;            /* [sample][view]: 1 + its place in the file; 0: missing, unreadable */
    int rows;               /* samples * views, the plain one included */
    uint64_t *keys;         /* [sample][view], if rows are kept on disk; 0: not wanted */
    ft__row_file file;
    bool on, on_disk, damaged;
} ft__cache;

/* What a run gets from its caller, and leaves for the next one: with the same data and the same
   frozen layers, whichever samples are held back. */
typedef struct ft__lent {
    ft__cache cache;
    int until;              /* the run stops after so many epochs, to continue from its checkpoint;
                               only their views go into the cache. 0: it ends as its options say */
    bool no_cache;          /* as ft_fit_options.no_cache */
} ft__lent;

typedef struct ft__place_in_run { /* how far a run is; a checkpoint stores it */
    int epoch, step;        /* the next to be done */
    ft__score score;        /* of this epoch so far */
    ft__score last;         /* of the last whole epoch */
    int best_epoch;
    ft__score best;         /* held-back, at the best epoch */
    ft__score held;         /* held-back, at the last */
    ft__plateau plateau;
    int64_t averaged;       /* weights in the average so far */
    bool done;
} ft__place_in_run;

typedef struct ft__data_state { /* hashes of the data: see training/resume */
    uint64_t classes;       /* of their names */
    uint64_t content;       /* of the samples in their order ... */
    uint64_t any_order;     /* ... and in any order */
    uint64_t labels, groups;
    uint64_t views;         /* of the augmentation that is trained on; 0: none, or not known */
} ft__data_state;

/* How the samples of a batch are mixed with those before them. */
typedef struct ft__mixing {
    bool on, cut;
    double other;           /* share of the sample before; 0 if not on */
    int left, top, right, bottom; /* cut: of the box that comes from it */
} ft__mixing;

typedef struct ft__sent_step { /* a step on a device whose results (ft__report) are awaited */
    bool on;
    int batch, step;        /* its samples; its number in the epoch, from 1 */
    int turn;               /* of the results */
    bool has_labels;
    float rate;
    uint64_t number;        /* among all steps of the model */
} ft__sent_step;

typedef struct ft__fit {
    ft_model *m;
    ft_data *data;
    ft_fit_options o;
    ft__plan *plan;
    ft__loader *loader;
    ft__cache cache;
    int until;              /* as in ft__lent */
    int *train, *held, *order, *views;
    int *work;              /* [2 * samples], for ft__bucket */
    int train_count, held_count;
    int epoch_count;        /* of order[], in this epoch (training/distinct_batches) */
    int steps;              /* in an epoch */
    uint64_t *texts;        /* [2 * samples] of pairs, and room for a batch's; NULL: not needed */
    size_t slots;           /* of that room */
    bool told, told_held;   /* that pairs are left out of training, of what is measured */
    float *weights;         /* of the batch's samples; NULL: all are 1 */
    int *batch_samples;     /* their indices in the data; NULL: nobody asks */
    float *class_weights;   /* NULL: all are 1 */
    ft__mixing mixing;      /* of the batch in this step */
    void *mixing_spare;     /* one sample of the largest input */
    int *grouped;           /* balanced_sampling: the training samples, class by class, ... */
    int *starts;            /* [classes + 1]: ... where each class begins; NULL: not balanced */
    int prepared, to_prepare; /* batches through the frozen prefix for the cache: done, in all */
    const char *note;       /* stored in the checkpoint, for a caller that runs several fits */
    uint64_t settings;      /* a hash of what must be the same to continue from a checkpoint */
    ft__data_state data_state; /* the same for the data */
    ft__place_in_run at;
    ft__sent_step sent;
    ft_metric metric;       /* that the best held-back epoch is chosen by */
    ft__outcomes outcomes;  /* of the held-back samples, where the metric needs them */
    ft__tag *tags;          /* of entities, where the metric is their F1 */
    ft_fit_result result;
    bool resume;            /* from the checkpoint, if there is one; else it is overwritten */
    bool stopped;
    double step_loss;       /* of the last step */
} ft__fit;

/* Gives the model the names of the data's classes. */
static ft_status ft__take_class_names(ft_model *m, const ft_data *data)
{
    ft__context *c = &m->context;
    int count = ft_data_classes(data), i;
    const char **names = (const char **)ft__allocate(c, (size_t)count, sizeof *names);
    if (!names) return c->status;
    for (i = 0; i < count; ++i) names[i] = ft_data_class_name(data, i);
    ft_set_class_names(m, count, names);
    ft__release(c, (void *)(uintptr_t)names);
    return c->status;
}

/* A model without class names takes the data's; a head for more classes is legal, but seldom meant
   to be. */
static ft_status ft__fit_classes(ft_model *m, const ft_data *data)
{
    int has = ft_data_classes(data), outputs = ft_class_count(m);
    if (ft_data_task(data) == FT_TASK_TOKENS) outputs = ft__output_classes(m);
    if (!ft__labels_of(m) || has < 1) return FT_OK;
    if (has < outputs)
        ft__log(&m->context, "the network has %d outputs, the data %d class%s: ft_replace_head"
                " gives it a head for them", outputs, has, has == 1 ? "" : "es");
    if (has != outputs || m->class_names || !ft_data_class_name(data, 0)) return FT_OK;
    return ft__take_class_names(m, data);
}

static ft_fit_options ft__fit_defaults(ft_fit_options o)
{
    if (o.epochs == 0) o.epochs = 10;
    if (o.batch_size == 0) o.batch_size = 32;
    if (o.step_epochs == 0) o.step_epochs = 10;
    if (o.gamma == 0)
        o.gamma = o.schedule == FT_WARM_RESTARTS || o.schedule == FT_POLYNOMIAL ? 1 : 0.1f;
    if (o.views == 0) o.views = 8;
    if (o.accumulate == 0) o.accumulate = 1;
    if (o.views > o.epochs) o.views = o.epochs; /* each epoch uses one */
    if (o.cache_bytes == 0) o.cache_bytes = (size_t)1 << 30;
    if (!o.stage) o.stage = "fit";
    o.optimizer = ft__optimizer_defaults(o.optimizer);
    return o;
}

/* ---- Which samples ---- */

static void ft__fit_count_steps(ft__fit *f)
{
    f->steps = (f->train_count + f->o.batch_size - 1) / f->o.batch_size;
    /* A last batch of one sample is dropped: batch norm needs two for a variance. */
    if (f->steps > 1 && f->train_count % f->o.batch_size == 1) f->steps -= 1;
}

static ft_status ft__fit_samples(ft__fit *f)
{
    ft__context *c = &f->m->context;
    int count = ft_data_count(f->data), most, i;
    int *part = (int *)ft__allocate(c, (size_t)count + 1, sizeof *part);
    f->train = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->train);
    f->held = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->held);
    f->order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->order);
    f->views = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->views);
    f->work = (int *)ft__allocate(c, 2 * (size_t)count + 1, sizeof *f->work);
    if (ft__ok(c) && f->o.hold_back > 0)
        ft__split(f->data, f->o.hold_back, c->desc.seed, part);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        if (part[i]) f->held[f->held_count++] = i;
        else f->train[f->train_count++] = i;
    }
    ft__release(c, part);
    if (ft__ok(c) && f->train_count == 0)
        ft__fail(c, FT_INVALID, "no samples are left to train on");
    most = f->train_count > f->held_count ? f->train_count : f->held_count;
    if (f->data->source.streams == 0 && f->o.batch_size > most && most > 0) f->o.batch_size = most;
    ft__fit_count_steps(f);
    return c->status;
}

/* ---- The cache of the frozen prefix ---- */

static bool ft__cache_lists(const ft__cache *cache, int id)
{
    int i;
    for (i = 0; i < cache->node_count; ++i)
        if (cache->nodes[i] == id) return true;
    return false;
}

/* Are outputs of the frozen prefix kept for the next run? Not a device's: its bits differ from the
   CPU's. */
static bool ft__keeps_rows(const ft__fit *f)
{
    const ft__context *c = &f->m->context;
    return c->desc.cache && !c->device && f->data->source.digest && !f->cache.step;
}

/* Bytes that the cache may take besides the loader, which fills it. */
static size_t ft__cache_left(const ft__fit *f)
{
    size_t left = ft__memory_left(&f->m->context);
    size_t loader = ft__loader_bytes(f->m, f->data, f->o.batch_size);
    return left > loader ? left - loader : 0;
}

/* Releases the pictures that the data keeps, if that makes room for the cache, which is needed
   more: with it no picture is read again. An eighth is for what decoding them needs. */
static void ft__cache_make_room(ft__fit *f, size_t bytes)
{
    size_t left = ft__cache_left(f), kept = ft__data_kept(f->data);
    if (bytes > f->o.cache_bytes || bytes <= left / 2 || kept == 0) return;
    left += kept;
    if (bytes > (left - left / 8) / 2) return;
    ft__log(&f->m->context, "decoded pictures of %zu KB are released: their memory is used for the"
            " outputs of the frozen layers", kept >> 10);
    f->data->features.release_kept(f->data->source.user);
}

/* Whether a sample's rows of the frozen prefix depend on that sample alone: of values with a row
   for each sample no step makes one without. */
static bool ft__prefix_rows_apart(const ft_model *m, const ft__plan *plan)
{
    int i, j;
    for (i = 0; i < plan->first_trained; ++i) {
        const ft__node *node = &m->nodes[plan->steps[i].id - 1];
        for (j = 0; j < node->input_count; ++j)
            if (m->nodes[node->inputs[j] - 1].shape.size[0] == FT_BATCH
                && !ft__has_row_each(&node->shape)) return false;
    }
    return true;
}

/* Whether a step of the frozen prefix reads an input besides the labels: else it is the loss's
   alone, as the rows of a one that are made of labels, and nothing is worth keeping. */
static bool ft__prefix_reads_inputs(const ft_model *m, const ft__plan *plan)
{
    int i, j;
    for (i = 0; i < plan->first_trained; ++i) {
        const ft__node *node = ft__node_of_step(m, plan, &plan->steps[i]);
        for (j = 0; j < node->input_count; ++j) {
            int id = ft__input_of(m, plan, &plan->steps[i], j);
            if (id <= m->node_count && m->nodes[id - 1].op == FT__OP_input
                && &m->nodes[id - 1] != ft__labels_of(m)) return true;
        }
    }
    return false;
}

/* A sequence is kept with its own number of steps: they must be the outermost dimension of a
   sample, in a row that does not depend on other samples. */
static bool ft__keeps_steps(const ft__fit *f, const ft_shape *shape)
{
    int d;
    for (d = 2; d < shape->rank; ++d)
        if (shape->size[d] == FT_LENGTH) return false;
    return shape->rank <= 3 && shape->size[1] == FT_LENGTH && f->data->source.length
        && f->data->source.streams == 0;
}

/* Lists a value to keep. False: it cannot be kept. */
static bool ft__cache_add(ft__fit *f, int id)
{
    ft__cache *cache = &f->cache;
    const ft__node *from = ft__node_of(f->m, f->plan, id);
    if (ft__cache_lists(cache, id)) return true;
    if (!ft__has_row_each(&from->shape)) return false;
    if (ft__has_length(from) && !ft__keeps_steps(f, &from->shape)) return false;
    cache->nodes[cache->node_count++] = id;
    if (ft__has_length(from)) cache->step += ft__node_count_at(from, ft__one);
    else cache->row += ft__node_count_at(from, ft__one);
    return true;
}

/* Finds the values that pass from the frozen prefix to the trained steps, and the labels, with
   which the output is compared even if no trained step reads them. False: one cannot be kept. */
static bool ft__cache_nodes(ft__fit *f)
{
    ft_model *m = f->m;
    const ft__node *labels = ft__labels_of(m);
    int i, j;
    for (i = f->plan->first_trained; i < f->plan->step_count; ++i) {
        const ft__step *step = &f->plan->steps[i];
        const ft__node *node = ft__node_of_step(m, f->plan, step);
        for (j = 0; j < node->input_count; ++j) {
            int id = ft__input_of(m, f->plan, step, j);
            if (f->plan->trained[id - 1] || ft__is_weight(ft__node_of(m, f->plan, id))) continue;
            if (!ft__cache_add(f, id)) return false;
        }
    }
    return !labels || ft__cache_add(f, (int)(labels - m->nodes) + 1);
}

/* The numbers of all rows; of sequences also sets where each begins. */
static size_t ft__cache_numbers(ft__fit *f, size_t rows)
{
    ft__cache *cache = &f->cache;
    const ft_source *source = &f->data->source;
    size_t views = rows / (size_t)source->count, row, numbers = 0;
    if (!cache->step) return ft__multiply(rows, cache->row, &numbers) ? numbers : SIZE_MAX / 8;
    cache->start = (size_t *)ft__allocate(&f->m->context, rows + 1, sizeof *cache->start);
    cache->steps = (int *)ft__allocate(&f->m->context, rows, sizeof *cache->steps);
    for (row = 0; ft__ok(&f->m->context) && row < rows; ++row) {
        int length = source->length(source->user, (int)(row / views));
        numbers += cache->row + cache->step * (size_t)(length > 0 ? length : 0);
        cache->start[row + 1] = numbers;
    }
    return numbers;
}

/* Where a row of the cache lies in memory. */
static float *ft__cache_at(const ft__cache *cache, size_t row)
{
    if (cache->on_disk) return cache->values;
    return cache->values + (cache->start ? cache->start[row] : row * cache->row);
}

/* Whether the frozen prefix of texts only looks up rows, adds and normalises, as the embeddings
   below LoRA in each layer do: of a few multiplications a number, such as the choice of a token
   type. That takes no longer than to read what was kept, which is hundreds of numbers a token. With
   `augment` the cache decides which views there are, so it stays. */
static bool ft__prefix_is_cheap(const ft__fit *f)
{
    const ft__plan *plan = f->plan;
    int i;
    for (i = 0; i < plan->first_trained; ++i) {
        const ft__node *node = ft__node_of_step(f->m, plan, &plan->steps[i]);
        if (ft__costs_of(f->m, node, plan->most, true).multiply_adds
            > 4 * (uint64_t)ft__node_count_at(node, plan->most)) return false;
    }
    return f->data->source.length && !f->o.augment;
}

/* Decides whether to keep the outputs of the frozen prefix: not if it is empty or cheap, if views
   never repeat, if samples meet, or if they would not fit. */
static ft_status ft__cache_plan(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    ft__cache *cache = &f->cache;
    size_t bytes, numbers, rows = (size_t)ft_data_count(f->data);
    if (f->o.no_cache || f->plan->first_trained == 0) return c->status;
    if (f->o.mixup > 0 || f->o.cutmix > 0) return c->status; /* mixed inputs do not repeat */
    if (!ft__prefix_reads_inputs(m, f->plan) || !ft__prefix_rows_apart(m, f->plan)
        || ft__prefix_is_cheap(f)) return c->status;
    cache->views = f->o.augment ? f->o.views : 1;
    cache->nodes = (int *)ft__allocate(c, (size_t)ft__value_count(m, f->plan) + 1,
                                       sizeof *cache->nodes);
    if (!cache->nodes || !ft__cache_nodes(f)) return c->status;
    rows *= (size_t)(cache->views + (f->o.augment ? 1 : 0)); /* held-back samples: the plain view */
    numbers = ft__cache_numbers(f, rows);
    if (!ft__multiply(numbers, sizeof(float), &bytes)) bytes = SIZE_MAX;
    ft__cache_make_room(f, bytes);
    if (!ft__ok(c)) return c->status;
    cache->on_disk = bytes > f->o.cache_bytes || bytes > ft__cache_left(f) / 2;
    if (rows > INT_MAX / 4 || (cache->on_disk && !ft__keeps_rows(f))) {
        ft__log(c, "the outputs of the frozen layers would need %zu MB: they are computed again in"
                " each epoch", bytes >> 20);
        return c->status;
    }
    cache->rows = (int)rows;
    cache->values = (float *)ft__allocate(c, cache->on_disk ? cache->row : numbers, sizeof(float));
    cache->record = (int *)ft__allocate(c, rows, sizeof *cache->record);
    cache->on = ft__ok(c);
    return c->status;
}

static size_t ft__cache_row(const ft__fit *f, int sample, int view)
{
    int views = f->cache.views + (f->o.augment ? 1 : 0);
    return (size_t)sample * (size_t)views + (size_t)(f->o.augment ? view : 0);
}

/* ---- Keys: hashes of everything that the outputs of the frozen layers depend on ---- */
typedef struct ft__prefix_hash { const ft__fit *f; uint64_t *steps; } ft__prefix_hash;

static uint64_t ft__hash_node(const ft__fit *f, uint64_t hash, int id, ft__text *text)
{
    ft_model *m = f->m;
    const ft__node *node = &m->nodes[id - 1];
    const ft__row *row = ft__rows[node->op];
    const ft__field *field = row->fields;
    int i;
    hash = ft__key(hash, (uint64_t)id, 0, 0);
    hash = ft__hash_bytes(hash, row->name, strlen(row->name)); /* op's number is this build's */
    hash = ft__hash_bytes(hash, &node->shape, sizeof node->shape);
    for (text->count = 0; field && field->name; ++field)
        ft__write_field(text, field, &node->options);
    if (text->count) hash = ft__hash_bytes(hash, text->letters, text->count);
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *input = &m->nodes[node->inputs[i] - 1];
        row = ft__rows[input->op];
        hash = ft__hash_bytes(ft__key(hash, (uint64_t)node->inputs[i], 0, 0), row->name,
                              strlen(row->name));
        if (ft__is_input(input))
            hash = ft__hash_bytes(hash, input->name, strlen(input->name));
        if (input->layout.source) hash = ft__hash_node(f, hash, node->inputs[i], text);
    }
    return hash;
}

/* Hashes the weights of one step, on any thread. */
static void ft__hash_weights(void *context, int step)
{
    const ft__prefix_hash *p = (const ft__prefix_hash *)context;
    const ft_model *m = p->f->m;
    int ids[3], i, j;
    ids[0] = p->f->plan->steps[step].id;
    ids[1] = p->f->plan->steps[step].norm;
    ids[2] = p->f->plan->steps[step].activation;
    for (i = 0; i < 3; ++i) {
        const ft__node *node = ids[i] ? &m->nodes[ids[i] - 1] : NULL;
        for (j = 0; node && j < node->input_count; ++j) {
            const ft__node *input = &m->nodes[node->inputs[j] - 1];
            if (ft__is_weight(input))
                p->steps[step] = ft__hash_value(p->steps[step], input);
        }
    }
}

/* Hashes the frozen prefix: its operators, options and weights, and how they are computed. */
static uint64_t ft__prefix_key(const ft__fit *f)
{
    ft__context *c = &f->m->context;
    uint64_t hash = ft__hash_bytes((uint64_t)c->simd, FINETUNE_VERSION, sizeof FINETUNE_VERSION);
    ft__prefix_hash p;
    ft__text text;
    int i;
    memset(&text, 0, sizeof text);
    text.context = c;
    p.f = f;
    p.steps = (uint64_t *)ft__allocate(c, (size_t)f->plan->first_trained + 1, sizeof *p.steps);
    if (p.steps) ft__parallel(c, f->plan->first_trained, ft__hash_weights, &p);
    for (i = 0; ft__ok(c) && i < f->plan->first_trained; ++i) {
        const ft__step *step = &f->plan->steps[i];
        if (step->copies) continue; /* what is cached has its layout in the key below */
        hash = ft__hash_node(f, hash ^ p.steps[i], step->id, &text);
        if (step->norm) hash = ft__hash_node(f, hash, step->norm, &text);
        if (step->activation) hash = ft__hash_node(f, hash, step->activation, &text);
        if (step->through) hash = ft__hash_node(f, hash, step->through, &text);
    }
    for (i = 0; i < f->cache.node_count; ++i) {
        const ft__node *node = ft__node_of(f->m, f->plan, f->cache.nodes[i]);
        bool copy = f->cache.nodes[i] > f->plan->node_count;
        hash = ft__key(hash, (uint64_t)(node - f->m->nodes + 1),
                       ft__is_channels_last(node) != copy, 0);
    }
    ft__release(c, text.letters);
    ft__release(c, p.steps);
    return hash;
}

static void ft__cache_keys(ft__fit *f, const int *samples, int count, int view)
{
    const ft_source *source = &f->data->source;
    int i;
    for (i = 0; i < count; ++i) {
        uint64_t key = source->digest(source->user, samples[i], view);
        f->cache.keys[ft__cache_row(f, samples[i], view)] = key ? key : 1;
    }
}

/* ---- Rows from the last run, and for the next ---- */

/* Reads the rows that are wanted and sound from the file; returns how many. */
static int ft__cache_load(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    ft__key_table table;
    uint64_t at, key;
    int row, same, taken = 0;
    if (!ft__key_table_make(&f->m->context, &table, cache->keys, cache->rows)
        || !ft__rows_open(&cache->file)) cache->file.count = 0;
    for (at = 0; at < cache->file.count && ft__rows_key(&cache->file, at, &key); ++at) {
        float *to;
        if ((row = ft__key_find(&table, key)) < 0 || cache->record[row]) continue;
        to = ft__cache_at(cache, (size_t)row);
        if (!ft__rows_read(&cache->file, at, key, to)) {
            if (!cache->damaged)
                ft__log(&f->m->context, "%s: damaged: what is missing is computed again",
                        cache->file.path);
            cache->damaged = true;
            continue;
        }
        for (same = row; same >= 0; same = table.next[same]) {
            if (!cache->on_disk && same != row)
                memcpy(ft__cache_at(cache, (size_t)same), to, cache->row * sizeof *to);
            cache->record[same] = 1 + (int)at;
            taken += 1;
        }
    }
    ft__key_table_free(&f->m->context, &table);
    return taken;
}

/* Begins the new file of a cache on disk with the rows found in the old one. */
static bool ft__cache_begin_file(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    ft__row_file old = cache->file;
    bool written = ft__rows_create(&cache->file);
    int row;
    for (row = 0; written && row < cache->rows; ++row) {
        if (!cache->record[row]) continue;
        written = ft__rows_read(&old, (uint64_t)cache->record[row] - 1, cache->keys[row],
                                cache->values)
            && ft__rows_add(&cache->file, cache->keys[row], cache->values);
        cache->record[row] = (int)cache->file.count;
    }
    if (old.file) f->m->context.desc.files.close(f->m->context.desc.files.user, old.file);
    if (!written && cache->file.file) ft__rows_finish(&cache->file, false);
    return written;
}

/* Writes a cache in memory to the file. */
static void ft__cache_write(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    bool written = true;
    int row;
    ft__rows_close(&cache->file);
    if (!ft__rows_create(&cache->file)) return;
    for (row = 0; written && row < cache->rows; ++row)
        if (cache->record[row] && cache->keys[row])
            written = ft__rows_add(&cache->file, cache->keys[row],
                                   ft__cache_at(cache, (size_t)row));
    ft__rows_finish(&cache->file, written);
}

/* Returns the memory of a node's value in the plan; *count is how many numbers a sample of the
   batch has. */
static float *ft__boundary(const ft__fit *f, int id, size_t *count)
{
    const ft__node *node = ft__node_of(f->m, f->plan, id);
    *count = ft__node_count_at(node, ft__extent_of(f->m, 1));
    return ft__is_leaf(node) && id <= f->plan->node_count ? node->value : f->plan->values[id - 1];
}

/* Fails: the frozen layers' output for a sample is not finite, which training cannot repair. */
static bool ft__cache_refuse(ft__fit *f, int node, int slot)
{
    char text[300];
    if (!ft__blame_data(f->m, text, sizeof text))
        snprintf(text, sizeof text, "the output of %.100s for sample %d (%.100s) is not finite",
                 ft__node_of(f->m, f->plan, node)->name, f->m->fed_samples[slot],
                 ft_data_name(f->data, f->m->fed_samples[slot]));
    ft__fail(&f->m->context, FT_NOT_FINITE, "the frozen layers: %s", text);
    return false;
}

/* The numbers of a node that a row of the cache has: of a sequence those of its own steps. */
static size_t ft__cache_part(const ft__fit *f, int id, size_t row)
{
    const ft__node *node = ft__node_of(f->m, f->plan, id);
    size_t one = ft__node_count_at(node, ft__one);
    return ft__has_length(node) ? one * (size_t)f->cache.steps[row] : one;
}

/* Notes the steps of a row, those of a sample of the batch. False: more than the source said. */
static bool ft__cache_note_steps(ft__fit *f, size_t row, const ft__batch *batch, int slot)
{
    ft__cache *cache = &f->cache;
    int s, steps = 0;
    if (!cache->step) return true;
    for (s = 0; s < f->loader->slot_count; ++s)
        if (batch->lengths[s][slot] > steps) steps = batch->lengths[s][slot];
    if (steps == 0) steps = f->m->length; /* the source sets no lengths: all steps are real */
    cache->steps[row] = steps;
    return cache->row + cache->step * (size_t)steps <= cache->start[row + 1] - cache->start[row];
}

/* Copies sample `slot` of the plan's batch to a row of the cache. False: there is no room for it,
   or an error. */
static bool ft__cache_put(ft__fit *f, size_t row, const ft__batch *batch, int slot)
{
    ft__cache *cache = &f->cache;
    float *at = ft__cache_at(cache, row);
    size_t count, part, k;
    int i;
    if (!ft__cache_note_steps(f, row, batch, slot)) return false;
    for (i = 0; i < cache->node_count; ++i) {
        const float *value = ft__boundary(f, cache->nodes[i], &count);
        part = ft__cache_part(f, cache->nodes[i], row);
        memcpy(at, value + (size_t)slot * count, part * sizeof *at);
        for (k = 0; ft__node_of(f->m, f->plan, cache->nodes[i])->type == FT_F32 && k < part; ++k)
            if (!(fabs((double)at[k]) <= (double)FLT_MAX))
                return ft__cache_refuse(f, cache->nodes[i], slot);
        at += part;
    }
    if (cache->on_disk && !ft__rows_add(&cache->file, cache->keys[row], cache->values))
        return false;
    cache->record[row] = cache->on_disk ? (int)cache->file.count : 1;
    return true;
}

/* The run's length is that of the longest of these samples. */
static void ft__cache_set_length(ft__fit *f, const int *samples, const int *views, int count)
{
    int i, longest = 1;
    for (i = 0; f->cache.step && i < count; ++i) {
        int steps = f->cache.steps[ft__cache_row(f, samples[i], views[i])];
        if (steps > longest) longest = steps;
    }
    if (f->cache.step) f->m->length = longest;
}

/* Copies it back; behind the steps of a sequence are zeros. Rows on disk are checked each time. */
static void ft__cache_get(ft__fit *f, size_t row, int slot)
{
    const ft__cache *cache = &f->cache;
    const float *at = ft__cache_at(cache, row);
    int i;
    if (cache->on_disk && !ft__rows_read(&cache->file, (uint64_t)cache->record[row] - 1,
                                         cache->keys[row], cache->values))
        ft__fail(&f->m->context, FT_IO, "%s: the file changed while it was in use",
                 cache->file.path);
    for (i = 0; i < cache->node_count; ++i) {
        size_t count, part = ft__cache_part(f, cache->nodes[i], row);
        float *value = ft__boundary(f, cache->nodes[i], &count);
        value += (size_t)slot * count;
        memcpy(value, at, part * sizeof *at);
        memset(value + part, 0, (count - part) * sizeof *at);
        at += part;
    }
}

/* ---- Filling it ---- */

/* Call it after copying rows to the plan's batch. */
static void ft__cache_got(ft__fit *f, int batch)
{
    int i;
    for (i = 0; i < f->cache.node_count; ++i) {
        size_t count;
        const float *value = ft__boundary(f, f->cache.nodes[i], &count);
        ft__host_fed(&f->m->context, value, count * (size_t)batch * sizeof *value);
    }
}

/* Call it before copying rows from the plan's batch: they may be on a device. */
static void ft__cache_fetch(ft__fit *f, int batch)
{
    int i;
    for (i = 0; i < f->cache.node_count; ++i) {
        size_t count;
        float *value = ft__boundary(f, f->cache.nodes[i], &count);
        ft__to_host(&f->m->context, value, count * (size_t)batch * sizeof *value);
    }
}

/* Tells the caller that a batch went through the frozen prefix. */
static void ft__fit_tell_prepared(ft__fit *f, int batch)
{
    ft_progress p;
    f->prepared += 1;
    if (!f->o.progress) return;
    memset(&p, 0, sizeof p);
    p.epochs = f->o.epochs;
    p.step = f->prepared;
    p.steps = f->to_prepare;
    p.batch = batch;
    p.stage = f->o.stage;
    p.accuracy = p.held_back_accuracy = p.held_back_loss = -1;
    p.preparing = true;
    if (!f->o.progress(f->o.progress_user, &p)) f->stopped = true;
}

/* The batches of this view that the cache lacks. */
static int ft__cache_batches(const ft__fit *f, const int *samples, int count, int view)
{
    int i, missing = 0;
    for (i = 0; i < count; ++i) missing += !f->cache.record[ft__cache_row(f, samples[i], view)];
    return (missing + f->o.batch_size - 1) / f->o.batch_size;
}

/* Runs the frozen prefix over the samples whose rows of this view are missing. False: they could
   not be stored. */
static bool ft__cache_fill_view(ft__fit *f, const int *samples, int count, int view)
{
    const ft__batch *batch;
    bool put = true;
    int i, missing = 0;
    for (i = 0; i < count; ++i) {
        if (f->cache.record[ft__cache_row(f, samples[i], view)]) continue;
        f->views[missing] = view;
        f->order[missing++] = samples[i];
    }
    if (!missing) return true;
    ft__bucket(&f->data->source, f->order, missing, f->o.batch_size, 0, f->work);
    ft__loader_start(f->loader, f->order, f->views, missing);
    while (put && !f->stopped && ft__ok(&f->m->context)
           && (batch = ft__loader_next(f->loader)) != NULL) {
        if (batch->count > 0) {
            ft__feed_batch(f->m, f->loader, batch);
            ft__run_forward(f->m, f->plan, 0, f->plan->first_trained, batch->count, 0);
            ft__cache_fetch(f, batch->count);
        }
        for (i = 0; put && i < batch->count; ++i)
            put = ft__cache_put(f, ft__cache_row(f, batch->index[i], view), batch, i);
        i = batch->count;
        ft__loader_release(f->loader);
        if (put && ft__ok(&f->m->context)) ft__fit_tell_prepared(f, i);
    }
    return put;
}

static void ft__cache_release(ft__context *c, ft__cache *cache)
{
    ft__rows_free(&cache->file);
    ft__release(c, cache->keys);
    ft__release(c, cache->record);
    ft__release(c, cache->values);
    ft__release(c, cache->steps);
    ft__release(c, cache->start);
    ft__release(c, cache->nodes);
    memset(cache, 0, sizeof *cache);
}

/* Makes the loader; needed only if some samples must go through the frozen prefix. */
static ft_status ft__fit_loader(ft__fit *f)
{
    ft__data_prepare(f->data);
    f->loader = ft__loader_create(f->m, f->data, f->o.batch_size, NULL);
    return f->m->context.status;
}

/* Whether an epoch of this run, up to where it stops, trains on a view. */
static bool ft__uses_view(const ft__fit *f, int view)
{
    int epoch;
    if (!f->o.augment || f->until == 0 || f->starts) return true;
    for (epoch = f->at.epoch; epoch < f->until; ++epoch)
        if (1 + epoch % f->cache.views == view) return true;
    return false;
}

/* Finds the last run's file, and which rows it has. */
static void ft__cache_find(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft__cache *cache = &f->cache;
    const char *origin = ft__data_origin(f->data);
    uint64_t id = ft__key(cache->row, (uint64_t)cache->views, f->o.augment ? 1 : 0, 0);
    int view, taken = 0;
    id = ft__hash_bytes(id, origin, strlen(origin));
    cache->keys = (uint64_t *)ft__allocate(c, (size_t)cache->rows, sizeof *cache->keys);
    if (!ft__ok(c)) return;
    ft__cache_keys(f, f->held, f->held_count, 0);
    for (view = f->o.augment ? 1 : 0; view <= (f->o.augment ? cache->views : 0); ++view)
        ft__cache_keys(f, f->train, f->train_count, view);
    if (ft__rows_make(&cache->file, c, "features", id, ft__prefix_key(f), cache->row))
        taken = ft__cache_load(f);
    if (taken) ft__log(c, "%s: %d outputs of the frozen layers are reused from an earlier run",
                       cache->file.path, taken);
}

static ft_status ft__cache_fill(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft__cache *cache = &f->cache;
    int first = f->o.augment ? 1 : 0, view, last = f->o.augment ? f->cache.views : 0;
    bool put = true;
    if (!cache->on || !ft__ok(c)) return c->status;
    if (ft__keeps_rows(f)) ft__cache_find(f);
    f->to_prepare = ft__cache_batches(f, f->held, f->held_count, 0);
    for (view = first; view <= last; ++view)
        if (ft__uses_view(f, view))
            f->to_prepare += ft__cache_batches(f, f->train, f->train_count, view);
    if (f->to_prepare == 0 || ft__fit_loader(f) != FT_OK) return c->status;
    if (cache->on_disk) put = ft__cache_begin_file(f);
    if (put) put = ft__cache_fill_view(f, f->held, f->held_count, 0);
    for (view = first; put && view <= last; ++view)
        if (ft__uses_view(f, view)) put = ft__cache_fill_view(f, f->train, f->train_count, view);
    if (!cache->on_disk && ft__keeps_rows(f) && ft__ok(c)) ft__cache_write(f);
    if ((!cache->on_disk && put) || !ft__ok(c)) return c->status;
    if (cache->file.file) put = ft__rows_finish(&cache->file, put);
    if (put && ft__rows_open(&cache->file)) return c->status;
    ft__log(c, "the outputs of the frozen layers are computed again in each epoch");
    cache->on = false;
    return c->status;
}
