#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"

/* =============================================================================================
   [SECTION] optimizers/embedding_rows: Rows at rest
   A batch uses a few hundred of an embedding's rows; an optimiser that visits all rows spends most
   of its time on the others. If only embeddings read a weight, an update visits only the rows with
   a gradient. Plain SGD leaves the others unchanged. Adam moves them by their moments, and AdamW's
   decay shrinks them. As their gradient is zero, those updates depend only on the row and on the
   step sizes, which are kept. So a row is caught up when a batch uses it again, and all rows are
   when anything else reads the weight (a run in evaluation form, a file, the caller). The
   operations and their order are the same as if each step had visited all rows: when they run
   changes no bit, so a run ends with the same bytes wherever it was interrupted.
   A whole step of an LSTM of 16 over 10,000 words of 128 and of 400 features, 32 texts of 19 words,
   Adam, one thread: 3.0 and 14.9 ms instead of 8.7 and 26.5 (the fastest of 280 steps).
   ============================================================================================= */
#define FT__PAST ((uint32_t)1024) /* updates that a row may lag; then all are caught up */
enum { FT__REST_ROWS = 16 };      /* rows that a thread takes at once */

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast", "no-math-errno")
#endif

/* Adam's update with a gradient of zero, for the updates [from, to) and up to 16 numbers. Moments
   too small to move anything become zero, at every eighth update: this rule depends only on the
   numbers, so the result does not depend on how the updates are split. */
FT__INLINE void ft__catch_up_block(const ft__resting *r, float *p, float *m, float *v, size_t count,
                                   uint32_t from, uint32_t to)
{
    float weight[16] = {0}, first[16] = {0}, second[16] = {0}, most;
    uint32_t u;
    size_t l;
    for (l = 0; l < count; ++l) {
        weight[l] = p[l];
        first[l] = m[l];
        second[l] = v[l];
    }
    for (most = 1, u = from; u < to && most > 0; ++u) {
        const ft__missed_update *past = &r->past[u % FT__PAST];
        for (l = 0; l < 16; ++l) {
            first[l] *= past->beta1;
            second[l] *= r->beta2;
            weight[l] = weight[l] * past->decay
                - past->step * first[l] / (sqrtf(second[l]) + past->eps);
        }
        if (u % 8) continue;
        for (most = 0, l = 0; l < 16; ++l)
            most = ft__choose(fabsf(first[l]) > most, fabsf(first[l]), most);
        most = ft__choose(most > 1e-18f, most, 0.0f);
        for (l = 0; most == 0 && l < 16; ++l) first[l] = 0;
    }
    for (; u < to; ++u)
        for (l = 0; l < 16; ++l) {
            second[l] *= r->beta2;
            weight[l] *= r->past[u % FT__PAST].decay;
        }
    for (l = 0; l < count; ++l) {
        p[l] = weight[l];
        m[l] = first[l];
        v[l] = second[l];
    }
}

FT__INLINE void ft__catch_up_row_body(const ft__node *node, size_t row, uint32_t since)
{
    const ft__resting *r = node->resting;
    size_t features = (size_t)r->features, at = row * features, end = at + features;
    for (; at < end; at += 16)
        ft__catch_up_block(r, node->value + at, node->moment1 + at, node->moment2 + at,
                           end - at < 16 ? end - at : 16, since, r->updates);
}

FT__LEVELS(ft__catch_up_row, (const ft__node *node, size_t row, uint32_t since),
           ft__catch_up_row_body(node, row, since))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

typedef struct ft__catch_up_job { const ft__context *c; const ft__node *node; int count; }
    ft__catch_up_job;

static void ft__catch_up_rows(void *context, int index)
{
    const ft__catch_up_job *job = (const ft__catch_up_job *)context;
    const ft__resting *r = job->node->resting;
    int i = index * FT__REST_ROWS, end = i + FT__REST_ROWS;
    for (; i < end && i < job->count; ++i)
        ft__catch_up_row[job->c->simd](job->node, (size_t)r->late[i], r->since[i]);
}

/* Catches up the rows of these ids, or all rows if `ids` is NULL. */
static void ft__catch_up(ft__context *c, ft__node *node, const int32_t *ids, size_t count)
{
    ft__resting *r = node->resting;
    ft__catch_up_job job;
    size_t i;
    if (!FT__HAS_TRAINING || !r || !r->moves) return;
    if (!ids) count = (size_t)r->words;
    job.c = c;
    job.node = node;
    job.count = 0;
    for (i = 0; i < count; ++i) {
        int32_t row = ids ? ids[i] : (int32_t)i;
        if (row < 0 || row >= r->words || r->done[row] == r->updates) continue;
        r->late[job.count] = row;
        r->since[job.count++] = r->done[row];
        r->done[row] = r->updates; /* so that a repeated id is skipped */
    }
    ft__parallel(c, (job.count + FT__REST_ROWS - 1) / FT__REST_ROWS, ft__catch_up_rows, &job);
}

/* Catches up the whole model, before anything but a training step's embedding reads a weight. */
static void ft__catch_up_all(ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i) ft__catch_up(&m->context, &m->nodes[i], NULL, 0);
}

/* Notes the rows to which backward gave a gradient. */
static void ft__use_rows(ft__resting *r, const int32_t *ids, size_t count)
{
    size_t i;
    for (i = 0; r && i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= r->words || r->is_used[ids[i]]) continue;
        r->is_used[ids[i]] = 1;
        r->used[r->used_count++] = ids[i];
    }
}

static void ft__forget_used(ft__resting *r)
{
    for (; r && r->used_count > 0; --r->used_count) r->is_used[r->used[r->used_count - 1]] = 0;
}

static void ft__resting_release(ft__context *c, ft__resting *r)
{
    if (!r) return;
    ft__release(c, r->done);
    ft__release(c, r->used);
    ft__release(c, r->late);
    ft__release(c, r->since);
    ft__release(c, r->is_used);
    ft__release(c, r->squares);
    ft__release(c, r->past);
    ft__release(c, r);
}

static size_t ft__resting_bytes(size_t words)
{
    return sizeof(ft__resting) + words * 17 + (words / FT__REST_ROWS + 1) * sizeof(double)
        + FT__PAST * sizeof(ft__missed_update) + 14 * FT__ALIGNMENT;
}

static ft__resting *ft__resting_make(ft__context *c, int words, int features)
{
    size_t rows = (size_t)words;
    ft__resting *r = (ft__resting *)ft__allocate(c, 1, sizeof *r);
    if (!r) return NULL;
    r->words = words;
    r->features = features;
    r->done = (uint32_t *)ft__allocate(c, rows, sizeof *r->done);
    r->used = (int32_t *)ft__allocate(c, rows, sizeof *r->used);
    r->late = (int32_t *)ft__allocate(c, rows, sizeof *r->late);
    r->since = (uint32_t *)ft__allocate(c, rows, sizeof *r->since);
    r->is_used = (unsigned char *)ft__allocate(c, rows, 1);
    r->squares = (double *)ft__allocate(c, rows / FT__REST_ROWS + 1, sizeof *r->squares);
    r->past = (ft__missed_update *)ft__allocate(c, FT__PAST, sizeof *r->past);
    if (ft__ok(c)) return r;
    ft__resting_release(c, r);
    return NULL;
}

/* Whether only embeddings read the weight, so that a step need not visit rows without a gradient. A
   device visits all rows: it has no list of those that a batch used. */
static bool ft__rows_can_rest(const ft_model *m, int id)
{
    int i, j, readers = 0;
    if (m->context.device || m->nodes[id - 1].shape.rank != 2
        || !ft__is_parameter(&m->nodes[id - 1])) return false;
    for (i = 0; i < m->node_count; ++i)
        for (j = 0; j < m->nodes[i].input_count; ++j) {
            if (m->nodes[i].inputs[j] != id) continue;
            if (!ft__is(&m->nodes[i], FT__LOOKS_UP) || j != 1) return false;
            readers += 1;
        }
    return readers > 0 && m->output.id != id && m->loss.id != id;
}
