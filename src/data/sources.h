#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "graph/plan.h"
#include "text/words.h"
#include "data/feature_files.h"

/* =============================================================================================
   [SECTION] data/sources: Data sources
   An ft_data is a source of samples that a model owns. This part has arrays in the caller's memory,
   and the split into training and held-back samples.
   ============================================================================================= */
/* What a source can do besides the callbacks of ft_source. Each is optional: a source without the
   callback lacks the feature. Other parts ask for a feature, never which kind of source it is.
   `user` is ft_source.user. */
typedef struct ft__features {
    const char *samples;    /* what messages call several of them; NULL: "samples" */
    /* Errors if the inputs that get() shall fill, or the network, do not suit the source; `call` is
       the public function that was called. */
    void (*check_slots)(ft__context *c, void *user, const ft_slot *slots, int slot_count);
    void (*check_network)(ft_model *m, void *user, const char *call);
    bool (*has_views)(void *user);  /* do views other than 0 differ? NULL: they may */
    const ft_augmentation *(*augmentation)(void *user);     /* of those views; */
    void (*augment)(void *user, const ft_augmentation *augmentation);   /* changes it */
    /* A hash, on top of `hash`, of what sample `index` is made from: of no view, unlike
       ft_source.digest. */
    uint64_t (*content)(ft_model *m, void *user, int index, uint64_t hash);
    /* The words of a sample whose words have classes, and how many; valid as long as the data. */
    const ft__word *(*words)(void *user, int index, size_t *count);
    /* The texts of a pair, and the number that says how similar they are; false: it has none. */
    bool (*pair)(void *user, int index, const char *texts[2], double *score);
    const char *(*origin)(void *user);  /* tells its part of ft_desc.cache from other data's */
    float (*number)(void *user, int index); /* what a regression learns of the sample */
    int (*skipped)(void *user);     /* samples that were left out when the source was made */
    void (*prepare)(void *user);    /* called before samples are read */
    size_t (*kept)(void *user);     /* bytes that the source keeps and could release */
    void (*release_kept)(void *user);   /* releases them; no loader may be running */
} ft__features;

struct ft_data {
    ft_model *model;
    ft_data *next;          /* in the model's list */
    ft_source source;
    ft__features features;
    const char *fills;      /* inputs that get() fills, separated by commas; NULL: unknown */
    int pieces;             /* of the tokeniser that made its "tokens"; 0: none did */
    ft_task task;           /* what its reader recognised; FT_TASK_AUTO: see ft_data_task ... */
    unsigned tasks;         /* ... and others that it can serve: bits 1 << task */
    unsigned char *left_out; /* of each sample: get() could not read it, and the log has said so */
    int left_out_count;
    void *kept[2];          /* memory that the source reads from, released after it; or NULL */
};

/* ---- Any source ---- */
ft_data *ft_data_source(ft_model *m, ft_source source)
{
    ft_data *data;
    unsigned char *left_out;
    if (!ft__usable(m) || !FT__HAS(m, DATA)) return NULL;
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
    int i;
    if (!FT__HAS_DATA || !data) return;
    for (link = &data->model->data; *link; link = &(*link)->next)
        if (*link == data) {
            *link = data->next;
            break;
        }
    if (data->source.release) data->source.release(data->source.user);
    for (i = 0; i < 2; ++i) ft__release(&data->model->context, data->kept[i]);
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

/* ---- Features that a source may have ---- */

static ft_status ft__data_check_network(ft_model *m, const ft_data *data, const char *call)
{
    if (data->features.check_network) data->features.check_network(m, data->source.user, call);
    return m->context.status;
}

static const char *ft__data_samples(const ft_data *data)
{
    return data->features.samples ? data->features.samples : "samples";
}

/* NULL: its views are not augmented. */
static const ft_augmentation *ft__data_augmentation(const ft_data *data)
{
    return data->features.augmentation ? data->features.augmentation(data->source.user) : NULL;
}

/* Are its samples pairs of texts, for FT_TASK_EMBEDDINGS? */
static bool ft__has_pairs(const ft_data *data) { return data && data->features.pair; }

/* Do views other than 0 differ from it? Assumed for a caller's source, whose get() may do anything
   with them. */
static bool ft__has_views(const ft_data *data)
{
    if (data->source.streams > 0) return false;
    return !data->features.has_views || data->features.has_views(data->source.user);
}

static int ft__data_skipped(const ft_data *data)
{
    return data->features.skipped ? data->features.skipped(data->source.user) : 0;
}

int ft_data_skipped(const ft_data *data)
{
    return data ? data->left_out_count + ft__data_skipped(data) : 0;
}

/* "": it has none. */
static const char *ft__data_origin(const ft_data *data)
{
    return data->features.origin ? data->features.origin(data->source.user) : "";
}

static void ft__data_prepare(const ft_data *data)
{
    if (data->features.prepare) data->features.prepare(data->source.user);
}

static size_t ft__data_kept(const ft_data *data)
{
    return data->features.kept ? data->features.kept(data->source.user) : 0;
}

/* ---- Facts ---- */

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

ft_status ft_data_read(ft_data *data, int index, int view, ft_slot *slots, int slot_count)
{
    ft_model *m = data ? data->model : NULL;
    if (!m) return FT_INVALID;
    if (!ft__usable(m) || !FT__HAS(m, DATA)
        || !ft__given(&m->context, slots, "ft_data_read: slots")) return m->context.status;
    if (index < 0 || index >= data->source.count || view < 0 || slot_count < 1)
        return ft__fail(&m->context, FT_INVALID, "ft_data_read: sample %d of %d in view %d, %d"
                        " slots: the sample must be one of the data's, the view not negative, and"
                        " at least 1 slot given", index, data->source.count, view, slot_count);
    ft__data_prepare(data);
    if (ft__ok(&m->context)
        && !data->source.get(data->source.user, index, view, slots, slot_count))
        return ft__fail(&m->context, FT_IO, "ft_data_read: sample %d, %.200s, cannot be read into"
                        " slots of these shapes", index, ft_data_name(data, index));
    return m->context.status;
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
    const int *labels;      /* or NULL */
    size_t target_size;     /* 0: no targets */
    const float *weights;   /* or NULL */
    char *labels_name;
    ft_array *list;         /* [count]: values, options.more, targets; names of their own */
    int count;
} ft__arrays;

/* The array for an input, or NULL. */
static const ft_array *ft__array_of(const ft__arrays *arrays, const char *name)
{
    int i;
    for (i = 0; i < arrays->count; ++i)
        if (!strcmp(name, arrays->list[i].name)) return &arrays->list[i];
    return NULL;
}

static bool ft__arrays_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    int s;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        const ft_array *array = ft__array_of(arrays, slots[s].name);
        if (array) {
            size_t bytes = ft__shape_count(&slots[s].shape) * sizeof(float);
            memcpy(slots[s].values, (const char *)array->values + (size_t)index * bytes, bytes);
        } else if (slots[s].type == FT_I32 && !strcmp(slots[s].name, arrays->labels_name)) {
            int32_t label = arrays->labels ? arrays->labels[index] : -1;
            memcpy(slots[s].values, &label, sizeof label);
        }
    }
    return true;
}

/* Wrong node names are an error before get() is called, which would leave those inputs empty. */
static void ft__arrays_check_slots(ft__context *c, void *user, const ft_slot *slots,
                                   int slot_count)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    int s;
    for (s = 0; s < slot_count; ++s) {
        bool values = slots[s].type == FT_F32;
        const ft_array *array = ft__array_of(arrays, slots[s].name);
        size_t count = ft__shape_count(&slots[s].shape);
        if (array && array == arrays->list + arrays->count - 1 && arrays->target_size
            && (!values || count != arrays->target_size))
            ft__fail(c, FT_SHAPE, "arrays: target_size is %zu, but \"%s\" has %zu numbers of %s",
                     arrays->target_size, array->name, count, ft__type_names[slots[s].type]);
        if (array ? array != arrays->list || values
                  : !values && !strcmp(slots[s].name, arrays->labels_name)) continue;
        ft__fail(c, FT_INVALID, "arrays: the network reads its %s from \"%s\", but the arrays fill"
                 " \"%s\": see ft_array_options", values ? "values" : "labels", slots[s].name,
                 values ? arrays->list[0].name : arrays->labels_name);
    }
}

/* An error if the network reads labels and the arrays have none. */
static void ft__arrays_check_network(ft_model *m, void *user, const char *call)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    if (!arrays->labels && !ft__array_of(arrays, arrays->labels_name)
        && ft__find_node(m, arrays->labels_name).id)
        ft__fail(&m->context, FT_INVALID, "%s: the network reads \"%s\", but the arrays have no"
                 " labels", call, arrays->labels_name);
}

static uint64_t ft__arrays_content(ft_model *m, void *user, int index, uint64_t hash)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    int i;
    for (i = 0; i < arrays->count; ++i) {
        const ft__node *input = ft__get_node(m, ft__find_node(m, arrays->list[i].name));
        size_t bytes = input ? ft__node_count_at(input, ft__extent_of(m, 1)) * sizeof(float) : 0;
        hash = ft__hash_bytes(hash, (const char *)arrays->list[i].values + (size_t)index * bytes,
                              bytes);
    }
    return hash;
}

/* Of data that are the same in each epoch. */
static bool ft__no_views(void *user)
{
    (void)user;
    return false;
}

static int ft__arrays_label(void *user, int index)
{
    return ((const ft__arrays *)user)->labels[index];
}

static float ft__arrays_weight(void *user, int index)
{
    return ((const ft__arrays *)user)->weights[index];
}

static void ft__arrays_release(void *user)
{
    ft__arrays *arrays = (ft__arrays *)user;
    while (arrays->count-- > 0)
        ft__release(arrays->context, (void *)(uintptr_t)arrays->list[arrays->count].name);
    ft__release(arrays->context, arrays->list);
    ft__release(arrays->context, arrays->labels_name);
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

static void ft__arrays_check_options(ft__context *c, const int *labels, const ft_array_options *o)
{
    const ft__field_use uses[] = {
        {"classes", o->classes > 0, labels != NULL, "labels, which are NULL"},
        {"target_size", o->target_size != 0, o->targets != NULL, "targets"},
        {"target", o->target != NULL, o->targets != NULL, "targets"}};
    ft__check_uses(c, "arrays", uses, sizeof uses / sizeof uses[0]);
    if (o->targets && o->target_size < 1)
        ft__fail(c, FT_INVALID, "arrays: target_size is %d; it must be the numbers of a sample's"
                 " target", o->target_size);
}

/* Adds an array for an input; the name is copied. */
static void ft__arrays_add(ft__arrays *arrays, const char *name, const void *values)
{
    if (!name || !values)
        ft__fail(arrays->context, FT_INVALID, "arrays: more[%d] needs a name and values",
                 arrays->count - 1);
    arrays->list[arrays->count].values = values;
    arrays->list[arrays->count].name = ft__copy_text(arrays->context, name ? name : "");
    if (arrays->list[arrays->count].name) arrays->count += 1;
}

ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                   ft_array_options options)
{
    ft__context *c;
    ft__arrays *arrays;
    ft_source source;
    ft_data *data;
    int i, more = options.more ? options.more_count : 0;
    if (!ft__usable(m) || !FT__HAS(m, DATA)) return NULL;
    c = &m->context;
    memset(&source, 0, sizeof source);
    if (!values || count < 1 || options.classes < 0 || options.more_count < 0
        || (options.more != NULL) != (options.more_count > 0)) {
        ft__fail(c, FT_INVALID, "arrays: values must not be NULL, count (%d) must be at least 1,"
                 " classes (%d) must not be negative, and more needs more_count (%d)", count,
                 options.classes, options.more_count);
        return NULL;
    }
    ft__arrays_check_options(c, labels, &options);
    source.classes = ft__label_classes(c, "arrays", count, labels, options.classes);
    arrays = (ft__arrays *)ft__allocate(c, 1, sizeof *arrays);
    if (!arrays) return NULL;
    arrays->context = c;
    arrays->labels = labels;
    arrays->labels_name = ft__copy_text(c, options.labels ? options.labels : "labels");
    arrays->target_size = options.targets ? (size_t)options.target_size : 0;
    arrays->weights = options.weights;
    arrays->list = (ft_array *)ft__allocate(c, (size_t)more + 2, sizeof *arrays->list);
    if (arrays->list) ft__arrays_add(arrays, options.input ? options.input : "input", values);
    for (i = 0; ft__ok(c) && i < more; ++i)
        ft__arrays_add(arrays, options.more[i].name, options.more[i].values);
    if (ft__ok(c) && options.targets)
        ft__arrays_add(arrays, options.target ? options.target : "target", options.targets);
    source.user = arrays;
    source.count = count;
    source.get = ft__arrays_get;
    source.label = labels ? ft__arrays_label : NULL;
    source.weight = options.weights ? ft__arrays_weight : NULL;
    source.release = ft__arrays_release;
    data = ft_data_source(m, source);
    if (!data) {
        ft__arrays_release(arrays);
        return NULL;
    }
    data->features.check_slots = ft__arrays_check_slots;
    data->features.check_network = ft__arrays_check_network;
    data->features.content = ft__arrays_content;
    data->features.has_views = ft__no_views;
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
    if (!FT__HAS_DATA || !data || !ft__usable(data->model) || data->source.streams > 0) return 0;
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
