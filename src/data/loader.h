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
#include "operators/table.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "data/sources.h"

/* =============================================================================================
   [SECTION] data/loader: The loader: batches ahead of the step that uses them
   A ring of `depth` batches. Background threads, and the thread that waits for a batch, take
   samples one by one in order. Each sample has a fixed place, so a batch's content does not depend
   on which thread filled it.
   ============================================================================================= */
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
    if (data->features.check_slots)
        data->features.check_slots(c, data->source.user, slots, slot_count);
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
