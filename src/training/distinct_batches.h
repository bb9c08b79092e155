#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "nodes/names.h"
#include "data/sources.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/distinct_batches: Batches in which no text is there twice
   In the loss of pairs without numbers (graph/pair_loss) all other second texts of the batch count
   as wrong. A text of two pairs would be right and wrong at once, so these pairs are put into
   different batches, as sentence-transformers' NO_DUPLICATES sampler does.
   ============================================================================================= */

/* Whether the loss compares each pair with the others of its batch. */
static bool ft__compares_in_batch(ft_model *m, const ft_data *data)
{
    return ft__has_pairs(data) && ft__find_node(m, "tokens_b").id && !ft__find_node(m, "scores").id;
}

/* Where a text is, or would be put. */
static size_t ft__text_slot(uint64_t text, const uint64_t *seen, size_t slots)
{
    size_t at = (size_t)(text >> 16) & (slots - 1);
    while (seen[at] && seen[at] != text) at = (at + 1) & (slots - 1);
    return at;
}

/* Adds a pair's texts to those of the batch in `seen`, if none of them is there yet. */
static bool ft__take_pair(const uint64_t pair[2], uint64_t *seen, size_t slots)
{
    size_t at[2];
    int side;
    for (side = 0; side < 2; ++side) {
        at[side] = ft__text_slot(pair[side], seen, slots);
        if (seen[at[side]]) return false;
    }
    seen[at[0]] = pair[0];
    seen[ft__text_slot(pair[1], seen, slots)] = pair[1];
    return true;
}

/* Orders samples so that no batch has a text twice: one that does not fit waits for the next batch.
   The first batch that cannot be filled is the last; samples that are left then are put behind.
   Returns how many come before them. `work` has room for 2 * count. */
static int ft__distinct_order(const uint64_t *texts, uint64_t *seen, size_t slots, int *order,
                              int count, int batch, int *work)
{
    int *waiting = work, *result = work + count, waits = 0, next = 0, placed = 0, size = batch;
    while (size == batch && placed < count) {
        int kept = 0, i;
        memset(seen, 0, slots * sizeof *seen);
        for (i = 0, size = 0; i < waits; ++i) {
            if (size < batch && ft__take_pair(texts + 2 * waiting[i], seen, slots))
                result[placed + size++] = waiting[i];
            else waiting[kept++] = waiting[i];
        }
        for (; size < batch && next < count; ++next) {
            if (ft__take_pair(texts + 2 * order[next], seen, slots))
                result[placed + size++] = order[next];
            else waiting[kept++] = order[next];
        }
        waits = kept;
        placed += size;
    }
    memcpy(result + placed, waiting, (size_t)(count - placed) * sizeof *result);
    memcpy(order, result, (size_t)count * sizeof *order);
    return placed;
}

/* Makes batches smaller where so few texts are different that whole ones would leave out more than
   a tenth of the pairs: with 5 names of topics as second texts a batch has 5 pairs. */
static void ft__fit_smaller_batches(ft__fit *f)
{
    int wanted = f->o.batch_size, size = wanted, placed;
    uint64_t *seen = f->texts + 2 * (size_t)ft_data_count(f->data);
    for (;; size = placed % size > 2 ? placed % size : 2) {
        memcpy(f->order, f->train, (size_t)f->train_count * sizeof *f->order);
        placed = ft__distinct_order(f->texts, seen, f->slots, f->order, f->train_count, size,
                                    f->work);
        if (size <= 2 || f->train_count - placed <= f->train_count / 10) break;
    }
    if (size == wanted) return;
    f->o.batch_size = size;
    ft__fit_count_steps(f);
    ft__log(&f->m->context, "batches of %d pairs, not %d: a batch has each text once, and few texts"
            " are different", size, wanted);
}

/* Prepares f->texts: a hash of each text, 2 of each sample; behind them room for a batch's. */
static ft_status ft__fit_texts(ft__fit *f)
{
    int count = ft_data_count(f->data), i, side;
    const char *texts[2];
    double score;
    if (!ft__compares_in_batch(f->m, f->data)) return f->m->context.status;
    for (f->slots = 4; f->slots < 4 * (size_t)f->o.batch_size; f->slots *= 2) {}
    f->texts = (uint64_t *)ft__allocate(&f->m->context, 2 * (size_t)count + f->slots,
                                        sizeof *f->texts);
    for (i = 0; f->texts && i < count; ++i) {
        f->data->features.pair(f->data->source.user, i, texts, &score);
        for (side = 0; side < 2; ++side) /* 0 is an empty slot */
            f->texts[2 * i + side] = ft__hash_bytes(1, texts[side], strlen(texts[side])) | 1;
    }
    if (f->texts) ft__fit_smaller_batches(f);
    return f->m->context.status;
}

/* The order of an epoch; what fits into none of its batches is left out of it. */
static void ft__fit_distinct(ft__fit *f)
{
    int count = f->train_count;
    f->epoch_count = count;
    if (!f->texts) return;
    f->epoch_count = ft__distinct_order(f->texts, f->texts + 2 * (size_t)ft_data_count(f->data),
                                        f->slots, f->order, count, f->o.batch_size, f->work);
    if (f->epoch_count < count && !f->told)
        ft__log(&f->m->context, "%d of %d pairs do not fit into an epoch, in each epoch others: a"
                " batch has each text once, and theirs are in too many pairs",
                count - f->epoch_count, count);
    f->told = true;
    if (f->epoch_count > 1 && f->epoch_count % f->o.batch_size == 1)
        f->epoch_count -= 1; /* one pair alone has no other to be compared with */
}

/* Orders the held-back samples in order[] so, too; returns how many are measured. */
static int ft__held_distinct(ft__fit *f)
{
    int count = f->held_count, placed;
    if (!f->texts) return count;
    placed = ft__distinct_order(f->texts, f->texts + 2 * (size_t)ft_data_count(f->data), f->slots,
                                f->order, count, f->o.batch_size, f->work);
    if (placed > 1 && placed % f->o.batch_size == 1) placed -= 1;
    if (placed < count && !f->told_held)
        ft__log(&f->m->context, "%d of %d held-back pairs are not measured: a batch has each text"
                " once, and theirs are in too many pairs", count - placed, count);
    f->told_held = true;
    return placed;
}
