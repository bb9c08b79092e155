#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/threads.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "operators/table.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "data/feature_files.h"

/* =============================================================================================
   [SECTION] data/sources: Data sources
   An ft_data is a source of samples that a model owns. This part has arrays in the caller's memory,
   the split into training and held-back samples, and the loader, which fills batches ahead of the
   training step.
   ============================================================================================= */
typedef struct ft__folder ft__folder;
typedef struct ft__texts ft__texts;

struct ft_data {
    ft_model *model;
    ft_data *next;          /* in the model's list */
    ft_source source;
    ft__folder *folder;     /* NULL: not an image folder */
    const char *fills;      /* inputs that get() fills, separated by commas; NULL: unknown */
    int pieces;             /* of the tokeniser that made its "tokens"; 0: none did */
    unsigned char *left_out; /* of each sample: get() could not read it, and the log has said so */
    int left_out_count;
};

/* ---- Any source ---- */
ft_data *ft_data_source(ft_model *m, ft_source source)
{
    ft_data *data;
    unsigned char *left_out;
    if (!ft__usable(m)) return NULL;
    if (!source.get)
        ft__fail(&m->context, FT_INVALID, "ft_data_source: get is NULL");
    if (source.count < 1 || source.classes < 0 || source.streams < 0)
        ft__fail(&m->context, FT_INVALID, "ft_data_source: %d samples, %d classes, %d streams: at"
                 " least 1 sample is needed, and no number may be negative", source.count,
                 source.classes, source.streams);
    left_out = (unsigned char *)ft__allocate(&m->context, (size_t)source.count, 1);
    data = (ft_data *)ft__allocate(&m->context, 1, sizeof *data);
    if (!data) {
        ft__release(&m->context, left_out);
        return NULL;
    }
    data->left_out = left_out;
    data->model = m;
    data->source = source;
    data->next = m->data;
    m->data = data;
    return data;
}

void ft_data_free(ft_data *data)
{
    ft_data **link;
    if (!data) return;
    for (link = &data->model->data; *link; link = &(*link)->next)
        if (*link == data) {
            *link = data->next;
            break;
        }
    if (data->source.release) data->source.release(data->source.user);
    ft__release(&data->model->context, data->left_out);
    ft__release(&data->model->context, data);
}

/* With streams the batch size must be their number: a row for each. */
static const char ft__samples_apart[] = "single samples; for streams the batch size is"
                                        " ft_stream_options.streams";
static bool ft__takes_batch_size(const ft_data *data, int batch_size)
{
    return data->source.streams == 0 || data->source.streams == batch_size;
}

int ft_data_count(const ft_data *data) { return data ? data->source.count : 0; }
int ft_data_classes(const ft_data *data) { return data ? data->source.classes : 0; }

const char *ft_data_class_name(const ft_data *data, int c) /* NULL: none */
{
    if (!data || c < 0 || c >= data->source.classes || !data->source.class_name) return NULL;
    return data->source.class_name(data->source.user, c);
}

const char *ft_data_name(const ft_data *data, int index) /* "": none */
{
    const char *name = NULL;
    if (data && index >= 0 && index < data->source.count && data->source.name)
        name = data->source.name(data->source.user, index);
    return name ? name : "";
}

int ft_data_label(const ft_data *data, int index) /* -1: none */
{
    if (!data || index < 0 || index >= data->source.count || !data->source.label) return -1;
    return data->source.label(data->source.user, index);
}

/* The number of classes that a set for evaluation must have: those of other data or, if that is
   NULL, of the model. */
static int ft__known_classes(const ft_model *m, const ft_data *of)
{
    return of ? ft_data_classes(of) : m->class_count;
}

static const char *ft__known_class(const ft_model *m, const ft_data *of, int i, char number[12])
{
    return ft__name_or_number(of ? ft_data_class_name(of, i) : m->class_names[i], i, number);
}

static void ft__unknown_class(ft_model *m, const ft_data *of, const char *path, const char *what)
{
    char number[12];
    int count = ft__known_classes(m, of);
    ft__fail(&m->context, FT_INVALID, "%s: the class '%s' is not one of the %d classes of the"
             " %s%s%s%s", path, what, count, of ? "training data" : "model",
             count ? " (the first is '" : "", count ? ft__known_class(m, of, 0, number) : "",
             count ? "')" : "");
}

/* Finds class names among those of other data or, if `of` is NULL, of the model. Returns an array
   of indices, to be released; NULL with an error that names the first unknown class. */
static int *ft__match_classes(ft_model *m, const ft_data *of, const char *path,
                              const char *const *names, int count)
{
    ft__context *c = &m->context;
    int known = ft__known_classes(m, of), i, at;
    uint64_t *keys = (uint64_t *)ft__allocate(c, (size_t)known + 1, sizeof *keys);
    int *place = (int *)ft__allocate(c, (size_t)count + 1, sizeof *place);
    ft__key_table table;
    char number[12];
    memset(&table, 0, sizeof table);
    if (!of && !m->class_names)
        ft__fail(c, FT_INVALID, "%s: the model has no class names to match (ft_set_class_names,"
                 " --labels)", path);
    for (i = 0; keys && i < known; ++i) {
        const char *name = ft__known_class(m, of, i, number);
        keys[i] = ft__hash_bytes(1, name, strlen(name)) | 1;
    }
    if (ft__ok(c) && ft__key_table_make(c, &table, keys, known))
        for (i = 0; i < count && ft__ok(c); ++i) {
            place[i] = -1;
            at = ft__key_find(&table, ft__hash_bytes(1, names[i], strlen(names[i])) | 1);
            for (; at >= 0; at = table.next[at]) /* the last match is the first of that name */
                if (!strcmp(ft__known_class(m, of, at, number), names[i])) place[i] = at;
            if (place[i] < 0) ft__unknown_class(m, of, path, names[i]);
        }
    ft__key_table_free(c, &table);
    ft__release(c, keys);
    if (!ft__ok(c)) {
        ft__release(c, place);
        place = NULL;
    }
    return place;
}

/* ---- Arrays ---- */
typedef struct ft__arrays {
    ft__context *context;
    const float *values;
    const int *labels;      /* or NULL */
    char *input_name, *labels_name;
} ft__arrays;

static bool ft__arrays_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    int s;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        if (slots[s].type == FT_F32 && !strcmp(slots[s].name, arrays->input_name)) {
            size_t count = ft__shape_count(&slots[s].shape);
            memcpy(slots[s].values, arrays->values + (size_t)index * count,
                   count * sizeof(float));
        } else if (slots[s].type == FT_I32 && !strcmp(slots[s].name, arrays->labels_name)) {
            int32_t label = arrays->labels ? arrays->labels[index] : -1;
            memcpy(slots[s].values, &label, sizeof label);
        }
    }
    return true;
}

/* Wrong node names are an error before get() is called, which would leave those inputs empty. */
static void ft__arrays_check(ft__context *c, const ft_source *source, const ft_slot *slots,
                             int slot_count)
{
    const ft__arrays *arrays = (const ft__arrays *)source->user;
    int s;
    if (source->get != ft__arrays_get) return;
    for (s = 0; s < slot_count; ++s) {
        bool values = slots[s].type == FT_F32;
        if (!strcmp(slots[s].name, values ? arrays->input_name : arrays->labels_name)) continue;
        ft__fail(c, FT_INVALID, "arrays: the network reads its %s from \"%s\", but the arrays fill"
                 " \"%s\": see ft_array_options", values ? "values" : "labels", slots[s].name,
                 values ? arrays->input_name : arrays->labels_name);
    }
}

/* An error if the network reads labels and the arrays have none. */
static ft_status ft__arrays_check_labels(ft_model *m, const ft_data *data, const char *call)
{
    const ft__arrays *arrays = (const ft__arrays *)data->source.user;
    if (data->source.get == ft__arrays_get && !arrays->labels
        && ft__find_node(m, arrays->labels_name).id)
        return ft__fail(&m->context, FT_INVALID, "%s: the network reads \"%s\", but the arrays have"
                        " no labels", call, arrays->labels_name);
    return m->context.status;
}

static int ft__arrays_label(void *user, int index)
{
    return ((const ft__arrays *)user)->labels[index];
}

static void ft__arrays_release(void *user)
{
    ft__arrays *arrays = (ft__arrays *)user;
    ft__release(arrays->context, arrays->labels_name);
    ft__release(arrays->context, arrays->input_name);
    ft__release(arrays->context, arrays);
}

/* Returns the number of classes; 0 with an error if a label is out of range. */
static int ft__label_classes(ft__context *c, const char *call, int count, const int *labels,
                             int classes)
{
    int i, most = 0;
    if (!labels) return 0;
    for (i = 0; i < count; ++i) {
        if (labels[i] < 0 || (classes > 0 && labels[i] >= classes) || labels[i] == INT_MAX) {
            ft__fail(c, FT_INVALID, "%s: labels[%d] is %d; it must be at least 0 and below %d",
                     call, i, labels[i], classes > 0 ? classes : INT_MAX);
            return 0;
        }
        if (labels[i] >= most) most = labels[i] + 1;
    }
    return classes > 0 ? classes : most;
}

ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                   ft_array_options options)
{
    ft__context *c;
    ft__arrays *arrays;
    ft_source source;
    ft_data *data;
    if (!ft__usable(m)) return NULL;
    c = &m->context;
    memset(&source, 0, sizeof source);
    if (!values || count < 1 || options.classes < 0) {
        ft__fail(c, FT_INVALID, "arrays: values must not be NULL, count (%d) must be at least 1,"
                 " and classes (%d) must not be negative", count, options.classes);
        return NULL;
    }
    if (options.classes > 0 && !labels)
        ft__fail(c, FT_INVALID, "arrays: classes has no effect here: it is for labels, which are"
                 " NULL");
    source.classes = ft__label_classes(c, "arrays", count, labels,
                                       options.classes);
    arrays = (ft__arrays *)ft__allocate(c, 1, sizeof *arrays);
    if (!arrays) return NULL;
    arrays->context = c;
    arrays->values = values;
    arrays->labels = labels;
    arrays->input_name = ft__copy_text(c, options.input ? options.input : "input");
    arrays->labels_name = ft__copy_text(c, options.labels ? options.labels : "labels");
    source.user = arrays;
    source.count = count;
    source.get = ft__arrays_get;
    source.label = labels ? ft__arrays_label : NULL;
    source.release = ft__arrays_release;
    data = ft_data_source(m, source);
    if (!data) ft__arrays_release(arrays);
    return data;
}

/* ---- Split ---- */
typedef struct ft__splitting {
    uint64_t *group;        /* of each sample */
    int *stratum;           /* its class; for a whole group the class of its first sample */
    int *order;             /* of the samples: by stratum, then by group */
    int *start, *drawn;     /* groups of one stratum: where they start in order[]; a drawn order */
} ft__splitting;

static bool ft__group_less(const void *context, int a, int b)
{
    const ft__splitting *s = (const ft__splitting *)context;
    if (s->group[a] != s->group[b]) return s->group[a] < s->group[b];
    return a < b;
}

static bool ft__stratum_less(const void *context, int a, int b)
{
    const ft__splitting *s = (const ft__splitting *)context;
    if (s->stratum[a] != s->stratum[b]) return s->stratum[a] < s->stratum[b];
    return ft__group_less(context, a, b);
}

/* Holds back groups of order[first..end), one stratum. In a drawn order it takes each group that
   brings the number held back nearer to the share; at least one group and never all. */
static void ft__split_stratum(const ft__splitting *s, int first, int end, double share,
                              uint64_t key, int *part)
{
    double target = share * (end - first), held = 0;
    int i, j, groups = 0, taken = 0, smallest = 0;
    for (i = first; i < end; ++i)
        if (i == first || s->group[s->order[i]] != s->group[s->order[i - 1]])
            s->start[groups++] = i;
    s->start[groups] = end;
    if (groups < 2) return;
    ft__shuffle(s->drawn, groups, key);
    for (j = 0; j < groups && taken < groups - 1; ++j) {
        int g = s->drawn[j], size = s->start[g + 1] - s->start[g];
        if (j == 0 || size < s->start[smallest + 1] - s->start[smallest]) smallest = g;
        if (fabs(held + size - target) >= fabs(held - target)) continue;
        for (i = s->start[g]; i < s->start[g + 1]; ++i) part[s->order[i]] = 1;
        held += size;
        taken += 1;
    }
    if (taken == 0)
        for (i = s->start[smallest]; i < s->start[smallest + 1]; ++i) part[s->order[i]] = 1;
}

/* If groups span classes, a whole class may have been held back: one of its groups returns to
   training. */
static void ft__split_repair(const ft__splitting *s, const ft_data *data, int *part)
{
    int count = data->source.count, c, i, k;
    for (c = 0; c < data->source.classes; ++c) {
        int held = -1;
        for (i = 0; i < count; ++i) {
            if (ft_data_label(data, i) != c) continue;
            if (part[i] == 0) break;
            if (held < 0) held = i;
        }
        if (i < count || held < 0) continue;
        for (k = 0; k < count; ++k)
            if (s->group[k] == s->group[held]) part[k] = 0;
    }
}

/* Sets part[i] to 0 (training) or 1 (held back): about the share `hold_back` of every class, in
   whole groups. Every class keeps a group in training and, if it has two, one held back. */
static bool ft__split(ft_data *data, float hold_back, uint64_t seed, int *part)
{
    ft__context *c = &data->model->context;
    const ft_source *source = &data->source;
    size_t count = (size_t)source->count;
    ft__splitting s;
    int i, first, *work;
    memset(part, 0, count * sizeof *part);
    if (!(hold_back >= 0.0f && hold_back < 1.0f))
        ft__fail(c, FT_INVALID, "hold_back is %g; it must be at least 0 and below 1",
                 (double)hold_back);
    if (!ft__ok(c) || hold_back == 0.0f) return ft__ok(c);
    s.group = (uint64_t *)ft__allocate(c, count, sizeof(uint64_t));
    work = (int *)ft__allocate(c, 4 * count + 1, sizeof(int));
    if (work) {
        s.stratum = work;
        s.order = s.stratum + count;
        s.drawn = s.order + count;
        s.start = s.drawn + count;
        for (i = 0; i < source->count; ++i) {
            s.group[i] = source->group ? source->group(source->user, i) : (uint64_t)i;
            s.stratum[i] = source->classes ? ft_data_label(data, i) : 0;
        }
        ft__sort_order(s.order, source->count, ft__group_less, &s);
        for (i = 1; i < source->count; ++i)
            if (s.group[s.order[i]] == s.group[s.order[i - 1]])
                s.stratum[s.order[i]] = s.stratum[s.order[i - 1]];
        ft__sort_order(s.order, source->count, ft__stratum_less, &s);
        for (first = 0, i = 1; i <= source->count; ++i) {
            int stratum = s.stratum[s.order[first]];
            if (i < source->count && s.stratum[s.order[i]] == stratum) continue;
            ft__split_stratum(&s, first, i, (double)hold_back,
                              ft__key(seed, (uint64_t)stratum, 0, FT__USE_SPLIT), part);
            first = i;
        }
        ft__split_repair(&s, data, part);
    }
    ft__release(c, work);
    ft__release(c, s.group);
    return ft__ok(c);
}

int ft_data_held_back(ft_data *data, float hold_back, int *indices, int most)
{
    int *part, held = 0, i;
    if (!data || !ft__usable(data->model) || data->source.streams > 0) return 0;
    part = (int *)ft__allocate(&data->model->context, (size_t)data->source.count + 1, sizeof *part);
    if (part && ft__split(data, hold_back, data->model->context.desc.seed, part))
        for (i = 0; i < data->source.count; ++i) {
            if (!part[i]) continue;
            if (indices && held < most) indices[held] = i;
            held += 1;
        }
    ft__release(&data->model->context, part);
    return held;
}

/* ---- Loader: fills batches ahead of the step that uses them ----
   A ring of `depth` batches. Background threads, and the thread that waits for a batch, take
   samples one by one in order. Each sample has a fixed place, so a batch's content does not depend
   on which thread filled it. */
enum { FT__MOST_SLOTS = 8, FT__BATCHES_AHEAD = 3 };

typedef struct ft__batch {
    int count;              /* samples that could be read; may be 0 */
    int first;              /* position of the first one in the order, and ... */
    int wanted;             /* ... the number of samples to be read */
    const int *index;       /* [count], of the samples in the data */
    void *values[FT__MOST_SLOTS];    /* per slot: [count, its shape] */
    int *lengths[FT__MOST_SLOTS];    /* per slot: [count], as the source set them */
} ft__batch;

typedef struct ft__loader {
    ft__context *context;
    ft_data *data;
    ft_slot slots[FT__MOST_SLOTS];
    ft_node nodes[FT__MOST_SLOTS];          /* the model's inputs that the slots fill */
    size_t bytes[FT__MOST_SLOTS];           /* of one sample */
    unsigned char *values[FT__MOST_SLOTS];  /* [depth, batch_size, bytes] */
    int *lengths[FT__MOST_SLOTS];           /* [depth, batch_size] */
    int slot_count, batch_size, depth;
    int length;             /* the number of steps that slots of sequences have room for */
    int *index;             /* [depth, batch_size] */
    int *fed;               /* [batch_size]: samples last copied into the inputs */
    bool *read;             /* [depth, batch_size]: get() returned true */
    int *missing;           /* [depth]: samples of this batch that are not done */
    int *order, *views;     /* [samples of the data] */
    int count;              /* of order[], in this run */
    int taken;              /* samples that some thread has begun */
    int running;            /* begun and not done */
    int released;           /* batches that were returned; also the next batch's number */
    bool held;              /* the caller has a batch */
    bool quit;
    int skipped;            /* samples left out since ft__loader_start */
    ft__batch batch;
    int thread_count;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t threads[64];
#endif
} ft__loader;

/* Reads sample i of the order into its place; call it without the mutex. */
static void ft__loader_fill(ft__loader *l, int i)
{
    const ft_source *source = &l->data->source;
    ft_slot slots[FT__MOST_SLOTS];
    int row = i % l->batch_size, s;
    int place = i / l->batch_size % l->depth * l->batch_size + row;
    for (s = 0; s < l->slot_count; ++s) {
        slots[s] = l->slots[s];
        slots[s].values = l->values[s] + (size_t)place * l->bytes[s];
        slots[s].length = 0;
        memset(slots[s].values, 0, l->bytes[s]);
    }
    l->read[place] = source->get(source->user, l->order[i], l->views[i], slots, l->slot_count);
    for (s = 0; s < l->slot_count; ++s) l->lengths[s][place] = slots[s].length;
    l->index[place] = l->order[i];
}

static int ft__loader_batch_size(const ft__loader *l, int batch)
{
    int64_t left = (int64_t)l->count - (int64_t)batch * l->batch_size;
    return left < 0 ? 0 : left < l->batch_size ? (int)left : l->batch_size;
}

#ifndef FINETUNE_NO_THREADS
/* Takes the next sample and fills it. The mutex is held on entry and on return. */
static void ft__loader_help(ft__loader *l)
{
    int i = l->taken++;
    l->running += 1;
    pthread_mutex_unlock(&l->mutex);
    ft__loader_fill(l, i);
    pthread_mutex_lock(&l->mutex);
    l->running -= 1;
    if (--l->missing[i / l->batch_size % l->depth] == 0 || l->running == 0)
        pthread_cond_broadcast(&l->done);
}

static void *ft__loader_thread(void *argument)
{
    ft__loader *l = (ft__loader *)argument;
    pthread_mutex_lock(&l->mutex);
    while (!l->quit) {
        if (l->taken < l->count && l->taken / l->batch_size - l->released < l->depth)
            ft__loader_help(l);
        else pthread_cond_wait(&l->work, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}
#endif

/* Waits for the samples in progress and drops the rest of the order. */
static void ft__loader_stop(ft__loader *l)
{
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    l->count = l->taken;
    while (l->running > 0) pthread_cond_wait(&l->done, &l->mutex);
#endif
    l->count = l->taken = l->released = 0;
    l->held = false;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_unlock(&l->mutex);
#endif
}

static void ft__loader_destroy(ft__loader *l)
{
    int i;
    if (!l) return;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (i = 0; i < l->thread_count; ++i) pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->done);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
#endif
    ft__release(l->context, l->views);
    ft__release(l->context, l->order);
    ft__release(l->context, l->missing);
    ft__release(l->context, l->read);
    ft__release(l->context, l->fed);
    ft__release(l->context, l->index);
    for (i = l->slot_count - 1; i >= 0; --i) {
        ft__release(l->context, l->lengths[i]);
        ft__release(l->context, l->values[i]);
    }
    ft__release(l->context, l);
}

static void ft__loader_allocate(ft__loader *l)
{
    ft__context *c = l->context;
    size_t places = (size_t)l->depth * (size_t)l->batch_size, all;
    int s;
    for (s = 0; s < l->slot_count; ++s) {
        size_t count = ft__shape_count(&l->slots[s].shape);
        l->bytes[s] = count * (size_t)ft__type_bytes[l->slots[s].type];
        if (count == 0 || !ft__multiply(places, l->bytes[s], &all)) {
            ft__fail(c, FT_SHAPE, "%s: %zu samples of this input do not fit into memory",
                     l->slots[s].name, places);
            return;
        }
        l->values[s] = (unsigned char *)ft__allocate(c, places, l->bytes[s]);
        l->lengths[s] = (int *)ft__allocate(c, places, sizeof(int));
    }
    l->index = (int *)ft__allocate(c, places, sizeof(int));
    l->fed = (int *)ft__allocate(c, (size_t)l->batch_size, sizeof(int));
    l->read = (bool *)ft__allocate(c, places, sizeof(bool));
    l->missing = (int *)ft__allocate(c, (size_t)l->depth, sizeof(int));
    l->order = (int *)ft__allocate(c, (size_t)l->data->source.count, sizeof(int));
    l->views = (int *)ft__allocate(c, (size_t)l->data->source.count, sizeof(int));
}

/* `slots`: name, type and shape of one sample of each input (the names must live as long). All
   memory is allocated here. There are as many background threads as the model has; none if that is
   one, or if the app brings its own. NULL with an error. */
static ft__loader *ft__loader_make(ft__context *c, ft_data *data, const ft_slot *slots,
                                   int slot_count, int batch_size, int depth)
{
    ft__loader *l;
    int s;
    if (!ft__ok(c)) return NULL;
    if (!data || slot_count < 1 || slot_count > FT__MOST_SLOTS || batch_size < 1 || depth < 1
        || batch_size > INT_MAX / depth) {
        ft__fail(c, FT_INVALID, "batches of %d samples with %d tensors each, %d ahead: each must be"
                 " at least 1, and at most %d tensors are supported", batch_size, slot_count, depth,
                 (int)FT__MOST_SLOTS);
        return NULL;
    }
    ft__arrays_check(c, &data->source, slots, slot_count);
    for (s = 0; data->fills && s < slot_count; ++s)
        if (!ft__glob(data->fills, slots[s].name))
            ft__fail(c, FT_INVALID, "the network has an input \"%.100s\", but this data fills only"
                     " %s (use ft_data_source for data of your own)", slots[s].name, data->fills);
    l = (ft__loader *)ft__allocate(c, 1, sizeof *l);
    if (!l) return NULL;
    l->context = c;
    l->data = data;
    memcpy(l->slots, slots, (size_t)slot_count * sizeof *slots);
    l->slot_count = slot_count;
    l->batch_size = batch_size;
    l->depth = depth;
    ft__loader_allocate(l);
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->done, NULL);
    while (ft__ok(c) && c->threads > 1 && !c->desc.parallel_for && l->thread_count < c->threads
           && l->thread_count < 64) {
        if (pthread_create(&l->threads[l->thread_count], NULL, ft__loader_thread, l) != 0) break;
        l->thread_count += 1;
    }
#endif
    if (ft__ok(c)) return l;
    ft__loader_destroy(l);
    return NULL;
}

/* Bytes that the loader below will allocate. */
static size_t ft__loader_bytes(const ft_model *m, const ft_data *data, int batch_size)
{
    size_t places = FT__BATCHES_AHEAD * (size_t)batch_size, each, i;
    size_t bytes = sizeof(ft__loader) + FT__BATCHES_AHEAD * sizeof(int)
        + 2 * (size_t)data->source.count * sizeof(int) + places * (2 * sizeof(int) + sizeof(bool))
        + 7 * FT__ALIGNMENT;
    for (i = 0; i < (size_t)m->node_count; ++i) {
        if (!ft__is_input(&m->nodes[i])) continue;
        each = ft__node_count_at(&m->nodes[i], ft__extent_of(m, 1)) * sizeof(float);
        bytes += places * (each + sizeof(int)) + 2 * FT__ALIGNMENT;
    }
    return bytes;
}

/* Makes a loader for all inputs of a model or, with a plan, for those that its output reads. */
static ft__loader *ft__loader_create(ft_model *m, ft_data *data, int batch_size,
                                     const ft__plan *output_of)
{
    ft_slot slots[FT__MOST_SLOTS];
    ft_node nodes[FT__MOST_SLOTS];
    ft__loader *l;
    int i, d, count = 0;
    memset(slots, 0, sizeof slots);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (!ft__is_input(node)) continue;
        if (output_of && !ft__output_reads(m, output_of, i + 1)) continue;
        if (count == FT__MOST_SLOTS) {
            ft__fail(&m->context, FT_UNSUPPORTED, "%s: a data source fills at most %d inputs, but"
                     " the network has more: feed them with ft_feed", node->name, count);
            return NULL;
        }
        slots[count].name = node->name;
        slots[count].type = node->type;
        slots[count].shape.rank = node->shape.rank - 1; /* without the batch */
        for (d = 1; d < node->shape.rank; ++d)
            slots[count].shape.size[d - 1] = node->shape.size[d] == FT_LENGTH ? m->length
                                                                             : node->shape.size[d];
        nodes[count++].id = i + 1;
    }
    l = ft__loader_make(&m->context, data, slots, count, batch_size, FT__BATCHES_AHEAD);
    if (l) memcpy(l->nodes, nodes, (size_t)count * sizeof *nodes);
    if (l) l->length = m->length;
    return l;
}

/* The steps of the batch's longest sample, if the source set lengths; else the slots' size. */
static int ft__batch_length(const ft__loader *l, const ft__batch *batch)
{
    int s, i, longest = 0;
    for (s = 0; s < l->slot_count; ++s)
        for (i = 0; i < batch->count; ++i)
            if (batch->lengths[s][i] > longest) longest = batch->lengths[s][i];
    return longest > 0 && longest < l->length ? longest : l->length;
}

/* Cuts `count` samples [depth, batch_size, has] in place to the shape `wanted`, which is not longer
   in any dimension: each row of the last dimension moves forward, over numbers already moved. */
static void ft__cut_samples(float *values, int count, const ft_shape *has, const ft_shape *wanted)
{
    int at[FINETUNE_MAX_RANK] = {0}, last = wanted->rank - 1, d;
    size_t sample = ft__shape_count(has), row = (size_t)wanted->size[last], from;
    float *to = values;
    while (at[0] < count) { /* at[0] is the sample, at[d + 1] its place in dimension d */
        for (from = 0, d = 0; d < last; ++d)
            from = from * (size_t)has->size[d] + (size_t)at[d + 1];
        from = (size_t)at[0] * sample + from * (size_t)has->size[last];
        memmove(to, values + from, row * sizeof *to);
        to += row;
        for (d = last; d > 0 && ++at[d] == wanted->size[d - 1]; --d) at[d] = 0;
        if (d == 0) at[0] += 1;
    }
}

/* Copies a batch into the inputs, whose memory was planned for batches of this size. Sequences are
   cut to the run's length in each dimension that is FT_LENGTH. This overwrites the batch's own
   memory, so a batch can be fed once. */
static void ft__feed_batch(ft_model *m, const ft__loader *l, const ft__batch *batch)
{
    int s, d;
    m->batch = batch->count;
    m->length = ft__batch_length(l, batch);
    for (s = 0; s < l->slot_count; ++s) {
        ft__node *node = &m->nodes[l->nodes[s].id - 1];
        ft_shape wanted = l->slots[s].shape;
        for (d = 0; d < wanted.rank; ++d)
            if (node->shape.size[d + 1] == FT_LENGTH) wanted.size[d] = m->length;
        if (m->length < l->length && ft__has_length(node))
            ft__cut_samples((float *)batch->values[s], batch->count, &l->slots[s].shape, &wanted);
        ft__fill_input(m, node, batch->values[s], batch->count);
    }
    memcpy(l->fed, batch->index, (size_t)batch->count * sizeof *l->fed);
    m->fed_samples = l->fed;
    m->fed_from = &l->data->source;
}

/* Starts batches of order[0..count), each sample at most once, with views[i] of sample order[i]
   (NULL: view 0). Both arrays are copied. Any earlier order is dropped. */
static void ft__loader_start(ft__loader *l, const int *order, const int *views, int count)
{
    size_t bytes = (size_t)count * sizeof(int);
    int b;
    ft__loader_stop(l);
    if (count < 0 || count > l->data->source.count) {
        ft__fail(l->context, FT_INVALID, "the loader cannot load %d of %d samples", count,
                 l->data->source.count);
        return;
    }
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
#endif
    memcpy(l->order, order, bytes);
    if (views) memcpy(l->views, views, bytes);
    else memset(l->views, 0, bytes);
    l->count = count;
    l->skipped = 0;
    for (b = 0; b < l->depth; ++b) l->missing[b] = ft__loader_batch_size(l, b);
#ifndef FINETUNE_NO_THREADS
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
#endif
}

/* Returns the batch, so that its place is filled again. */
static void ft__loader_release(ft__loader *l)
{
    if (!l->held) return;
    l->held = false;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
#endif
    l->missing[l->released % l->depth] = ft__loader_batch_size(l, l->released + l->depth);
    l->released += 1;
#ifndef FINETUNE_NO_THREADS
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
#endif
}

static void ft__loader_body(void *context, int index)
{
    ft__loader *l = (ft__loader *)context;
    ft__loader_fill(l, l->released * l->batch_size + index);
}

/* Waits until batch number l->released is filled. */
static void ft__loader_wait(ft__loader *l, int wanted)
{
    int place = l->released % l->depth;
    if (l->thread_count == 0) {
#ifndef FINETUNE_NO_THREADS
        ft__parallel(l->context, wanted, ft__loader_body, l);
#else
        int i; /* without mutexes only one thread may call get(), so not the app's threads */
        for (i = 0; i < wanted; ++i) ft__loader_body(l, i);
#endif
        l->taken += wanted;
        l->missing[place] = 0;
        return;
    }
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    while (l->missing[place] > 0) {
        if (l->taken < l->count && l->taken / l->batch_size == l->released) ft__loader_help(l);
        else pthread_cond_wait(&l->done, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
#endif
}

/* A sample that cannot be read is logged once, however often it is requested. */
static void ft__leave_out(ft__loader *l, int sample)
{
    l->skipped += 1;
    if (l->data->left_out[sample]) return;
    l->data->left_out[sample] = 1;
    l->data->left_out_count += 1;
    ft__log(l->context, "%s (sample %d) cannot be read and is skipped",
            ft_data_name(l->data, sample), sample);
}

/* Returns the next batch, valid until ft__loader_release or the next call; NULL after the last. */
static const ft__batch *ft__loader_next(ft__loader *l)
{
    int row, s, kept, wanted, first;
    ft__loader_release(l);
    wanted = ft__loader_batch_size(l, l->released);
    if (wanted == 0) return NULL;
    ft__loader_wait(l, wanted);
    first = l->released % l->depth * l->batch_size;
    for (row = first, kept = first; row < first + wanted; ++row) {
        if (!l->read[row]) {
            ft__leave_out(l, l->index[row]);
            continue;
        }
        for (s = 0; s < l->slot_count && kept != row; ++s) {
            memcpy(l->values[s] + (size_t)kept * l->bytes[s],
                   l->values[s] + (size_t)row * l->bytes[s], l->bytes[s]);
            l->lengths[s][kept] = l->lengths[s][row];
        }
        l->index[kept++] = l->index[row];
    }
    l->batch.count = kept - first;
    l->batch.first = l->released * l->batch_size;
    l->batch.wanted = wanted;
    l->batch.index = l->index + first;
    for (s = 0; s < l->slot_count; ++s) {
        l->batch.values[s] = l->values[s] + (size_t)first * l->bytes[s];
        l->batch.lengths[s] = l->lengths[s] + first;
    }
    l->held = true;
    return &l->batch;
}

/* ---- Sequences ---- */

/* Plans made from now on have room for the longest sample. */
static void ft__set_longest(ft_model *m, const ft_data *data)
{
    const ft_source *source = &data->source;
    int i, longest = 1;
    if (!source->length) return;
    for (i = 0; i < source->count; ++i) {
        int length = source->length(source->user, i);
        if (length > longest) longest = length;
    }
    ft_set_length(m, longest);
}

typedef struct ft__by_length { const ft_source *source; const int *order; } ft__by_length;

static bool ft__shorter(const void *context, int a, int b)
{
    const ft__by_length *by = (const ft__by_length *)context;
    int la = by->source->length(by->source->user, by->order[a]);
    int lb = by->source->length(by->source->user, by->order[b]);
    return la != lb ? la < lb : a < b;
}

/* Puts samples of similar length into the same batch, so that little is padded. The shuffled
   samples are sorted by length within pools of 50 batches. Then the batches are shuffled again,
   except the last, which may be smaller (Khomenko et al. 2016). `work` has room for 2 * count. */
static void ft__bucket(const ft_source *source, int *order, int count, int batch, uint64_t key,
                       int *work)
{
    int pool = batch > INT_MAX / 50 ? INT_MAX : 50 * batch, batches = count / batch, first, i;
    int *sorted = work, *places = work + count;
    ft__by_length by;
    if (!source->length || source->streams > 0) return;
    by.source = source;
    for (first = 0; first < count; first += pool) {
        int size = count - first < pool ? count - first : pool;
        by.order = order + first;
        ft__sort_order(places, size, ft__shorter, &by);
        for (i = 0; i < size; ++i) sorted[first + i] = order[first + places[i]];
        if (count - first <= pool) break;
    }
    ft__shuffle(places, batches, key);
    for (i = 0; i < batches; ++i)
        memcpy(order + (size_t)i * (size_t)batch, sorted + (size_t)places[i] * (size_t)batch,
               (size_t)batch * sizeof *order);
    memcpy(order + (size_t)batches * (size_t)batch, sorted + (size_t)batches * (size_t)batch,
           (size_t)(count - batches * batch) * sizeof *order);
}
