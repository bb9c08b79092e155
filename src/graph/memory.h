#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/calls.h"

/* =============================================================================================
   [SECTION] graph/memory: Graph: memory
   A value has a place in the plan's memory from the moment that computes it to the last that reads
   it: steps run forward in their order, then backward in the reverse one. If a budget leaves too
   little memory for that, the trained steps are cut into parts, at places that few values cross.
   The values made and read inside a part are dropped after forward, and the part runs forward again
   just before its own backward (Chen et al. 2016, "Training deep nets with sublinear memory cost").
   The bits are the same: dropout's numbers are a function of (seed, step, node), and a batch norm's
   running statistics move only the first time.
   ============================================================================================= */

/* Gives every block an offset such that blocks in use at the same time do not overlap: largest
   first, each as low as it fits. Returns the bytes that hold all of them. */
static size_t ft__place(ft__block *blocks, int count)
{
    size_t total = 0;
    int i, j;
    for (i = 1; i < count; ++i) { /* insertion sort: stable, a few hundred blocks at most */
        ft__block block = blocks[i];
        for (j = i; j > 0 && blocks[j - 1].bytes < block.bytes; --j) blocks[j] = blocks[j - 1];
        blocks[j] = block;
    }
    for (i = 0; i < count; ++i) {
        ft__block *block = &blocks[i];
        bool moved = true;
        block->offset = 0;
        while (moved) { /* move up past overlapping blocks until there are none */
            moved = false;
            for (j = 0; j < i; ++j) {
                ft__block *other = &blocks[j];
                if (other->last < block->first || other->first > block->last) continue;
                if (other->offset + other->bytes <= block->offset) continue;
                if (block->offset + block->bytes <= other->offset) continue;
                block->offset = other->offset + other->bytes;
                moved = true;
            }
        }
        if (block->offset + block->bytes > total) total = block->offset + block->bytes;
    }
    return total;
}

/* Whether a step's backward needs its output: for the slope of its own or a fused activation. */
static bool ft__keeps_output(const ft_model *m, const ft__plan *plan, const ft__step *step)
{
    return ft__is(ft__node_of_step(m, plan, step), FT__READS_Y)
        || (step->activation && !ft__masks(m, step));
}

static void ft__list_restored(ft__plan *plan)
{
    int i;
    for (i = 0; i < plan->step_count; ++i) plan->steps[i].restores = 0;
    for (i = plan->step_count - 1; i >= 0; --i) {
        ft__step *step = &plan->steps[i];
        ft__step *before = step->alone ? &plan->steps[step->alone - 1] : NULL;
        step->next_restored = before ? before->restores : 0;
        if (before) before->restores = i + 1;
    }
}

/* Sets the moments of backward and of the recomputation before it: part by part from the end. The
   loss gets its gradient at moment step_count. Returns the last moment. */
static int ft__plan_moments(ft__plan *plan)
{
    int moment = plan->step_count, end = plan->step_count, first, i, next;
    for (i = 0; i < plan->step_count; ++i) plan->steps[i].moment_back = i;
    ft__list_restored(plan);
    while (end > plan->first_trained) {
        for (first = end; first > plan->first_trained
             && plan->steps[first - 1].part == plan->steps[end - 1].part; --first) {}
        for (i = first; i < end; ++i)
            if (plan->steps[i].again && !plan->steps[i].alone)
                plan->steps[i].moment_again = ++moment;
        for (i = end - 1; i >= first; --i) {
            for (next = plan->steps[i].restores; next; next = plan->steps[next - 1].next_restored)
                plan->steps[next - 1].moment_again = ++moment;
            plan->steps[i].moment_back = ++moment;
        }
        end = first;
    }
    return moment;
}

/* The steps that read a node: those from *from to before the returned place of plan->readers. */
static int ft__readers_of(const ft__plan *plan, int id, int *from)
{
    *from = id > 1 ? plan->reader_end[id - 2] : 0;
    return plan->reader_end[id - 1];
}

/* Whether a reader's backward reads a value: integers, which tell where numbers are, always. */
static bool ft__is_read_back(const ft_model *m, const ft__plan *plan, const ft__node *reader,
                             int value)
{
    return ft__is(reader, FT__READS_X)
        || (FT__HAS_ARITHMETIC && ft__node_of(m, plan, value)->type == FT_I32);
}

/* The last moment that reads the value of step `made_by`: of a step that runs again, its first
   value or its `second` one. */
static int ft__last_use(const ft_model *m, const ft__plan *plan, int made_by, bool second)
{
    const ft__step *maker = &plan->steps[made_by];
    int id = maker->output, last = second ? maker->moment_again : made_by, from, end;
    bool backward = second || !maker->again;
    if (maker->once || ft__stays(m, id)) return INT_MAX;
    for (end = ft__readers_of(plan, id, &from); from < end; ++from) {
        const ft__step *step = &plan->steps[plan->readers[from]];
        const ft__node *reader = ft__node_of_step(m, plan, step);
        if (plan->readers[from] > last) last = plan->readers[from];
        if (backward && step->again && step->moment_again > last) last = step->moment_again;
        if (backward && ft__learns(plan, step->output) && ft__is_read_back(m, plan, reader, id)
            && step->moment_back > last)
            last = step->moment_back;
    }
    if (backward && ft__learns(plan, id) && ft__keeps_output(m, plan, maker)
        && maker->moment_back > last)
        last = maker->moment_back;
    return last;
}

static bool ft__has_gradient(const ft_model *m, const ft__plan *plan, int id)
{
    return (ft__learns(plan, id) || ft__wants_gradient(m, plan, id))
        && (plan->last_reader[id - 1] >= 0 || id == m->loss.id);
}

/* A gradient may use the memory of the gradient from which it is computed, if the operator works in
   place and is the first to write it. Goes from the end, so that chains share one block. */
static void ft__plan_shares(const ft_model *m, ft__plan *plan)
{
    int i, j;
    for (i = 0; i < ft__value_count(m, plan); ++i) plan->shares[i] = i + 1;
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        int id = node->input_count ? ft__input_of(m, plan, step, 0) : 0;
        bool fits = id && ft__is(node, FT__IN_PLACE)
            && ft__has_gradient(m, plan, id) && ft__has_gradient(m, plan, step->output)
            && !(id <= plan->node_count && ft__is_leaf(&m->nodes[id - 1]))
            && plan->last_reader[id - 1] == i
            && !ft__wants_gradient(m, plan, id) && !ft__wants_gradient(m, plan, step->output)
            && ft__may_share(node, ft__node_of(m, plan, id), ft__node_of(m, plan, step->output));
        for (j = 1; j < node->input_count; ++j)
            fits = fits && ft__input_of(m, plan, step, j) != id;
        if (fits) plan->shares[id - 1] = plan->shares[step->output - 1];
    }
}

static int ft__add_block(ft__block *blocks, int count, size_t bytes, int first, int last,
                         void **pointer)
{
    blocks[count].bytes = ft__round_up(bytes);
    blocks[count].offset = 0;
    blocks[count].first = first;
    blocks[count].last = last;
    blocks[count].pointer = pointer;
    return count + 1;
}

/* The gradient of a node, in use from the moment at which its last reader's backward writes it, to
   that of the step `made_by`; of a leaf (-1), and if it is wanted, for good. */
static int ft__gradient_block(const ft_model *m, ft__plan *plan, int id, int made_by,
                              ft__block *blocks, int count)
{
    int reader = plan->last_reader[id - 1], root = plan->shares[id - 1];
    int last = made_by < 0 || ft__wants_gradient(m, plan, id) ? INT_MAX
                                                              : plan->steps[made_by].moment_back;
    if (last > plan->shared_until[root - 1]) plan->shared_until[root - 1] = last;
    if (!ft__has_gradient(m, plan, id) || root != id) return count;
    last = plan->shared_until[id - 1]; /* those that share it are made earlier */
    return ft__add_block(blocks, count,
                         ft__node_count_at(ft__node_of(m, plan, id), plan->most) * sizeof(float),
                         reader < 0 ? plan->step_count : plan->steps[reader].moment_back, last,
                         (void **)(void *)&plan->gradients[id - 1]);
}

/* Lists values, gradients and what operators save: at most five blocks per step. Those of
   parameters are outside the plan. */
static int ft__list_blocks(ft_model *m, ft__plan *plan, ft__block *blocks)
{
    int count = 0, i;
    size_t widened = 0;
    bool twice;
    ft__plan_moments(plan);
    memset(plan->shared_until, 0, (size_t)ft__value_count(m, plan) * sizeof *plan->shared_until);
    plan->workspace_bytes = 0;
    for (i = 0; i < plan->step_count; ++i) {
        ft__step *step = &plan->steps[i];
        const ft__node *output = ft__node_of(m, plan, step->output);
        ft__costs costs = ft__costs_of(m, ft__node_of_step(m, plan, step), plan->most,
                                       step->trained);
        size_t bytes = ft__node_count_at(output, plan->most) * sizeof(float);
        void **value = (void **)(void *)(step->again ? &step->values[0]
                                                     : &plan->values[step->output - 1]);
        if (costs.workspace > plan->workspace_bytes) plan->workspace_bytes = costs.workspace;
        widened = ft__max_size(widened, ft__widened_bytes(m, plan, step));
        count = ft__add_block(blocks, count, bytes, step->once ? 0 : i,
                              ft__last_use(m, plan, i, false), value);
        if (step->again)
            count = ft__add_block(blocks, count, bytes, step->moment_again,
                                  ft__last_use(m, plan, i, true),
                                  (void **)(void *)&step->values[1]);
        count = ft__gradient_block(m, plan, step->output, i, blocks, count);
        if (!costs.saved) continue;
        twice = step->again && !step->alone;
        count = ft__add_block(blocks, count, costs.saved, i,
                              twice || !ft__learns(plan, step->output) ? i
                              : step->moment_back,
                              twice ? &step->saved[0] : &plan->saved[step->id - 1]);
        if (twice)
            count = ft__add_block(blocks, count, costs.saved, step->moment_again,
                                  step->moment_back, &step->saved[1]);
    }
    for (i = 1; i <= m->node_count; ++i)
        if (ft__is_leaf(&m->nodes[i - 1]) && ft__wants_gradient(m, plan, i))
            count = ft__gradient_block(m, plan, i, -1, blocks, count);
    plan->widen_at = ft__round_up(plan->workspace_bytes);
    if (widened) plan->workspace_bytes = plan->widen_at + widened;
    return count;
}

/* ---- What backward recomputes ---- */

/* For every trained step: how many values made by earlier ones it or a later one reads. */
static void ft__count_crossing(const ft__plan *plan, int *crossing)
{
    int i, from, end, last;
    memset(crossing, 0, ((size_t)plan->step_count + 1) * sizeof *crossing);
    for (i = plan->first_trained; i < plan->step_count; ++i) {
        last = i;
        for (end = ft__readers_of(plan, plan->steps[i].output, &from); from < end; ++from)
            if (plan->readers[from] > last) last = plan->readers[from];
        crossing[i + 1] += 1;    /* from the next step on ... */
        crossing[last + 1] -= 1; /* ... to the last reader */
    }
    for (i = plan->first_trained + 1; i < plan->step_count; ++i) crossing[i] += crossing[i - 1];
}

/* Whether the operator replaces a state that outlives the step: it must not run twice in one. */
static bool ft__carries(const ft__node *node)
{
    return ft__is(node, FT__RECURRENT) && node->options.recurrent.carry;
}

/* Marks the step if its value is recomputed: only steps of its part read it, and its own backward,
   a reader's, or a reader that runs again needs it. */
static void ft__mark_again(ft_model *m, ft__plan *plan, int at)
{
    ft__step *step = &plan->steps[at];
    const ft__node *node = ft__node_of_step(m, plan, step);
    bool wanted = ft__keeps_output(m, plan, step)
        || ft__costs_of(m, node, plan->most, true).saved > 0;
    int from, end;
    step->again = false;
    if (ft__stays(m, step->output)) return;
    if (ft__carries(node)) return;
    for (end = ft__readers_of(plan, step->output, &from); from < end; ++from) {
        const ft__step *reader = &plan->steps[plan->readers[from]];
        if (reader->part != step->part) return;
        if (ft__is_read_back(m, plan, ft__node_of_step(m, plan, reader), step->output)
            || reader->again) wanted = true;
    }
    step->again = wanted;
}

/* Values that are always recomputed: their operator restores them at about the cost of a copy, and
   backward multiplies them. These are the batch norms between two convolutions. For 16 pictures
   ResNet-18 takes 453 MB instead of 498, a MobileNet of width 0.25 takes 108 instead of 183.
   Neither takes more time: values that are not kept need not go to memory and back. */
static void ft__plan_alone(ft_model *m, ft__plan *plan)
{
    int at, from, end;
    for (at = plan->first_trained; at < plan->step_count; ++at) {
        ft__step *step = &plan->steps[at];
        bool same_part = true, multiplies = false;
        int last = 0;
        if (step->again || ft__stays(m, step->output)
            || !ft__is(ft__node_of_step(m, plan, step), FT__RESTORES)) continue;
        for (end = ft__readers_of(plan, step->output, &from); from < end; ++from) {
            const ft__step *read = &plan->steps[plan->readers[from]];
            const ft__node *reader = ft__node_of_step(m, plan, read);
            if (read->part != step->part) same_part = false;
            if (!ft__is(reader, FT__READS_X)) continue;
            if (ft__costs_of(m, reader, plan->most, true).multiply_adds > 0) multiplies = true;
            last = plan->readers[from] + 1;
        }
        if (!multiplies || !same_part) continue;
        step->again = true;
        step->alone = last;
    }
}

/* Cuts the trained steps into about `parts` parts of similar size, where at most `most` values
   cross. The last part's backward follows at once, so nothing of it is dropped. */
static void ft__plan_parts(ft_model *m, ft__plan *plan, int parts, int most, const int *crossing)
{
    size_t all = 0, passed = 0;
    int i, part = 0;
    for (i = plan->first_trained; i < plan->step_count; ++i)
        all += ft__node_count_at(ft__node_of(m, plan, plan->steps[i].output), plan->most);
    for (i = plan->first_trained; i < plan->step_count; ++i) {
        if (crossing[i] <= most && (double)passed * parts >= (double)(part + 1) * (double)all)
            part += 1;
        plan->steps[i].part = part;
        passed += ft__node_count_at(ft__node_of(m, plan, plan->steps[i].output), plan->most);
    }
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        plan->steps[i].again = false;
        plan->steps[i].alone = 0;
        if (plan->steps[i].part < part) ft__mark_again(m, plan, i);
    }
    ft__plan_alone(m, plan);
}

/* Places all blocks so that the plan fits into `room`, with `cut` in the fewest parts, cut
   where one value crosses, or else two or three. Returns the number of blocks. */
static int ft__plan_fit(ft_model *m, ft__plan *plan, ft__block *blocks, size_t room, bool cut)
{
    int count, parts, i;
    int trained = plan->step_count - plan->first_trained, most, *crossing;
    size_t least;
    plan->parts = 0;
    for (i = 0; i < plan->step_count; ++i) {
        plan->steps[i].again = false;
        plan->steps[i].alone = plan->steps[i].part = 0;
    }
    if (FT__HAS_TRAINING && plan->training && !m->context.device) ft__plan_alone(m, plan);
    count = ft__list_blocks(m, plan, blocks);
    plan->memory_bytes = plan->memory_whole = ft__place(blocks, count);
    if (!FT__HAS_TRAINING || !cut || !plan->training || m->context.device
        || plan->memory_bytes <= room) return count;
    least = plan->memory_bytes;
    crossing = (int *)ft__allocate(&m->context, (size_t)plan->step_count + 1, sizeof *crossing);
    if (crossing) ft__count_crossing(plan, crossing);
    for (most = 1; most < 4; ++most) /* of many numbers of parts not each is tried */
        for (parts = 2; crossing && parts <= trained && plan->memory_bytes > room;
             parts += 1 + parts / 16) {
            ft__plan_parts(m, plan, parts, most, crossing);
            count = ft__list_blocks(m, plan, blocks);
            plan->memory_bytes = ft__place(blocks, count);
            plan->parts = parts;
            if (plan->memory_bytes < least) least = plan->memory_bytes;
        }
    ft__release(&m->context, crossing);
    if (plan->memory_bytes > room) plan->memory_bytes = least; /* for the error that refuses it */
    return count;
}

/* Returns the next block of the plan's weights; until they are allocated, only counts. */
static float *ft__plan_weight(ft__plan *plan, size_t bytes)
{
    size_t at = plan->weight_bytes;
    plan->weight_bytes += ft__round_up(bytes);
    return plan->weights ? (float *)(void *)((char *)plan->weights + at) : NULL;
}

/* Prepared and folded weights of the steps that are not trained. Folded ones that are only input of
   the preparation share one block. */
static void ft__plan_weights(ft_model *m, ft__plan *plan)
{
    size_t passing = 0;
    float *shared;
    int i;
    plan->weight_bytes = 0;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__node *node = ft__node_of_step(m, plan, &plan->steps[i]);
        ft__costs costs = ft__costs_of(m, node, plan->most, false);
        size_t bytes;
        if (!plan->steps[i].norm || (!costs.prepared && !plan->steps[i].each_run)
            || plan->steps[i].typed
            || ft__lent_for(m, plan->steps[i].id, plan->steps[i].norm)) continue;
        bytes = ft__node_count_at(&m->nodes[node->inputs[1] - 1], ft__one) * sizeof(float);
        if (bytes > passing) passing = bytes;
    }
    shared = ft__plan_weight(plan, passing);
    for (i = 0; i < plan->step_count; ++i) {
        ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        ft__costs costs = ft__costs_of(m, node, plan->most, false);
        const ft__prepared *lent = step->trained ? NULL : ft__lent_for(m, step->id, step->norm);
        step->prepared_for = ~(uint64_t)0;
        step->prepared = lent ? lent->prepared : NULL;
        step->lent = lent != NULL;
        if (lent) {
            step->weight = lent->weight;
            step->bias = lent->bias;
            continue;
        }
        if (costs.prepared && !step->trained && !step->each_run && !step->typed)
            step->prepared = ft__plan_weight(plan, costs.prepared);
        if (!step->norm) continue;
        if (step->typed)
            step->fold = ft__plan_weight(plan, (size_t)m->nodes[node->inputs[1] - 1].shape.size[0]
                                         * sizeof(float));
        else step->weight = costs.prepared || step->each_run ? shared : ft__plan_weight(
            plan, ft__node_count_at(&m->nodes[node->inputs[1] - 1], ft__one) * sizeof(float));
        step->bias = ft__plan_weight(plan, (size_t)m->nodes[node->inputs[1] - 1].shape.size[0]
                                     * sizeof(float));
    }
}

/* Lists the steps that read each value, in order. A step that reads one twice is there twice. */
static void ft__plan_readers(ft_model *m, ft__plan *plan)
{
    int i, j, count = 0, values = ft__value_count(m, plan);
    ft__plan_last_readers(m, plan);
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        count += node->input_count;
        for (j = 0; j < node->input_count; ++j)
            plan->reader_end[ft__input_of(m, plan, step, j) - 1] += 1;
    }
    plan->readers = (int *)ft__allocate(&m->context, (size_t)count + 1, sizeof *plan->readers);
    if (!plan->readers) return;
    for (i = 1; i < values; ++i) plan->reader_end[i] += plan->reader_end[i - 1];
    for (i = plan->step_count - 1; i >= 0; --i) { /* each end moves to the begin, ... */
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        for (j = 0; j < node->input_count; ++j)
            plan->readers[--plan->reader_end[ft__input_of(m, plan, step, j) - 1]] = i;
    }
    for (i = 1; i < values; ++i) /* ... which is where the one before ends */
        plan->reader_end[i - 1] = plan->reader_end[i];
    if (values) plan->reader_end[values - 1] = count;
}

static int ft__most_inputs(const ft_model *m)
{
    int most = 3, i; /* three: a folded bias may be added */
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].input_count > most) most = m->nodes[i].input_count;
    return most;
}

#define FT__UPDATE_CHUNK ((size_t)1 << 14) /* numbers that a thread updates at a time */

/* Bytes of a parameter's state that are not allocated yet. */
static size_t ft__moments_missing(const ft_model *m, const ft__node *node)
{
    size_t bytes = 0;
    int which;
    for (which = 0; which < 2; ++which) {
        size_t numbers = ft__moment_numbers(m, node, which);
        if (numbers > 0 && !(which == 0 ? node->moment1 : node->moment2))
            bytes += numbers * sizeof(float) + 2 * FT__ALIGNMENT;
    }
    return bytes;
}

/* Bytes besides the plan's that a run needs and that are not allocated yet. */
static size_t ft__besides_plan(const ft_model *m, ft__extent most, bool training)
{
    size_t bytes = m->reserve + (size_t)m->node_count * FT__ALIGNMENT, parts = 0, has = 0;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t each = ft__node_count_at(node, most) * sizeof(float) + 2 * FT__ALIGNMENT;
        if (ft__has_rows(node) && !ft__holds(node->capacity, most)) bytes += each;
        if (!training || !ft__is_parameter(node) || node->frozen) continue;
        if (!node->value || node->mapping) bytes += each;
        if (!node->gradient) bytes += each;
        bytes += ft__moments_missing(m, node);
        parts += each / sizeof(float) / FT__UPDATE_CHUNK + 1;
        if (!node->resting && ft__rows_can_rest(m, i + 1))
            bytes += ft__resting_bytes((size_t)node->shape.size[0]);
    }
    if (m->optimizer) has = (size_t)m->optimizer->part_capacity;
    return bytes + (parts > has ? parts - has : 0) * sizeof(ft__update_part);
}

/* Whether a step reads a weight itself, not a folded copy. */
static bool ft__plan_reads(const ft_model *m, const ft__plan *plan, int id)
{
    int i, j;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        for (j = 0; !step->norm && j < node->input_count; ++j)
            if (ft__input_of(m, plan, step, j) == id) return true;
    }
    return false;
}

/* What the plan's products pass on in device memory: reordered weights, and partial sums of the
   gradients of weights. */
static size_t ft__device_passing(const ft_model *m, const ft__plan *plan)
{
    size_t packed = 0, sums = 0;
    int i;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__node *node = ft__node_of_step(m, plan, &plan->steps[i]), *weight;
        size_t count, rows;
        if (!ft__is(node, FT__PRODUCT)) continue;
        weight = &m->nodes[node->inputs[1] - 1];
        count = ft__node_count_at(weight, ft__one);
        rows = ft__node_count_at(node, plan->most) / (size_t)weight->shape.size[0];
        if (count > packed) packed = count;
        if (!plan->training || weight->frozen || rows == 0) continue;
        count *= ft__backend_of(&m->context)->slices(rows, count);
        if (count > sums) sums = count;
    }
    return (packed + sums) * sizeof(float);
}

/* Bytes that a run needs on the device besides the plan's two buffers and what is there already. */
static size_t ft__device_besides(const ft_model *m, const ft__plan *plan)
{
    const ft__context *c = &m->context;
    const ft__backend *device = ft__backend_of(c);
    size_t bytes = 0;
    int i;
    if (!device->takes) return 0;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t each = ft__node_count_at(node, plan->most) * sizeof(float);
        if (ft__is_input(node)) bytes += device->takes(c, node->value, each, true);
        if (ft__is_weight(node) && ft__plan_reads(m, plan, i + 1))
            bytes += device->takes(c, node->value, each, false);
        if (!plan->training || !ft__is_parameter(node) || node->frozen) continue;
        bytes += device->takes(c, node->gradient, each, false);
        bytes += device->takes(c, node->moment1, ft__moment_numbers(m, node, 0) * sizeof(float),
                               false);
        bytes += device->takes(c, node->moment2, ft__moment_numbers(m, node, 1) * sizeof(float),
                               false);
    }
    return bytes + ft__device_passing(m, plan);
}

/* Temporary memory to compare an operator of the plan with the processor: two samples, or all where
   samples may meet, with their gradients, at most three times on the host, and on the device. */
static size_t ft__trial_bytes(const ft_model *m, const ft__plan *plan)
{
    size_t most = 0, bytes;
    ft__extent two = plan->most;
    int i, j;
    if (two.batch > 2) two.batch = 2;
    for (i = 0; m->context.device && i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = &m->nodes[step->id - 1];
        const ft__node *first = ft__node_of(m, plan, ft__input_of(m, plan, step, 0));
        ft__extent size = ft__mixes_samples(node, &first->shape, &node->shape) ? plan->most : two;
        bytes = 3 * ft__node_count_at(node, size); /* value, gradient, and what it saves */
        for (j = 0; j < ft__node_of_step(m, plan, step)->input_count; ++j)
            bytes += 2 * ft__node_count_at(ft__node_of(m, plan, ft__input_of(m, plan, step, j)),
                                           size);
        if (bytes > most) most = bytes;
    }
    return 4 * most * sizeof(float);
}

/* Bytes of the plans that are released before this one is allocated. */
static size_t ft__plan_replaces(const ft_model *m, const ft__plan *plan)
{
    const ft__plan *old = m->plans[plan->training], *other = m->plans[!plan->training];
    return (old ? old->taken : 0) + (plan->gives_up ? other->taken : 0);
}

/* In how many places a plan's memory is: on a device it is there too. */
static size_t ft__plan_places(const ft_model *m) { return m->context.device ? 2 : 1; }

/* Bytes that a run adds to those of the plan's values. */
static size_t ft__plan_others(const ft_model *m, const ft__plan *plan)
{
    return ft__besides_plan(m, plan->most, plan->training) + plan->workspace_bytes
        + ft__plan_places(m) * plan->weight_bytes + 4 * FT__ALIGNMENT
        + ft__device_besides(m, plan) + ft__trial_bytes(m, plan);
}

/* Bytes that the plan's values may take; SIZE_MAX: no limit. The plan that it replaces is released
   by then. */
static size_t ft__plan_room(const ft_model *m, const ft__plan *plan)
{
    size_t left = ft__memory_left(&m->context), other;
    if (left == SIZE_MAX) return left;
    left += ft__plan_replaces(m, plan);
    other = ft__plan_others(m, plan);
    return left > other ? (left - other) / ft__plan_places(m) : 0;
}

/* The most bytes that the model holds when it runs the plan. */
static size_t ft__plan_total(const ft_model *m, const ft__plan *plan)
{
    return plan->beside + ft__plan_others(m, plan) + ft__plan_places(m) * plan->memory_bytes;
}

static void ft__plan_refuse(ft_model *m, const ft__plan *plan, size_t room)
{
    ft__fail(&m->context, FT_MEMORY, "a batch of %d needs %zu bytes of values%s, but the memory"
             " budget leaves %zu of %zu for them: use a smaller batch, or a memory_budget of %zu",
             plan->most.batch, plan->memory_bytes,
             FT__HAS_TRAINING && plan->parts ? " even with most recomputed in backward" : "",
             room, m->context.desc.memory_budget, ft__plan_total(m, plan));
}

/* Of the steps whose weights are folded or prepared once, makes the one with the most bytes of them
   do it in each run. false: none is left. */
static bool ft__plan_drop_weights(ft_model *m, ft__plan *plan)
{
    size_t most = 0, bytes;
    int i, found = -1;
    for (i = 0; i < plan->step_count && !m->context.device; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = ft__node_of_step(m, plan, step);
        if (step->each_run || step->trained || step->lent || step->typed) continue;
        bytes = ft__costs_of(m, node, plan->most, false).prepared;
        if (!bytes && step->norm)
            bytes = ft__node_count_at(&m->nodes[node->inputs[1] - 1], ft__one) * sizeof(float);
        if (bytes <= most) continue;
        most = bytes;
        found = i;
    }
    if (found >= 0) plan->steps[found].each_run = true;
    return found >= 0;
}

/* Computes all values in each run; false: it was so. */
static bool ft__plan_drop_once(ft__plan *plan)
{
    bool any = false;
    int i;
    for (i = 0; i < plan->step_count; ++i) {
        any = any || plan->steps[i].once;
        plan->steps[i].once = false;
    }
    return any;
}

/* Places the plan in what the budget leaves. If that is too little, these are given up, in this
   order: values that are computed once for all runs; the plan for the other purpose, which is made
   again when it is needed; values that are kept for backward; weights that are prepared once for
   all runs. Returns the number of blocks. */
static int ft__plan_choose(ft_model *m, ft__plan *plan, ft__block *blocks)
{
    const ft__plan *other = m->plans[!plan->training];
    bool spare = other && other != m->in_use;
    int count;
    plan->room = ft__plan_room(m, plan);
    count = ft__plan_fit(m, plan, blocks, plan->room, false);
    if (plan->memory_bytes > plan->room && (ft__plan_drop_once(plan) || !spare))
        count = ft__plan_fit(m, plan, blocks, plan->room, !spare);
    if (spare && plan->memory_bytes > plan->room) {
        plan->gives_up = true;
        plan->room = ft__plan_room(m, plan);
        count = ft__plan_fit(m, plan, blocks, plan->room, true);
    }
    while (plan->memory_bytes > plan->room && ft__ok(&m->context)
           && ft__plan_drop_weights(m, plan)) {
        while (plan->training && ft__plan_drop_weights(m, plan)) {}
        ft__plan_weights(m, plan);
        plan->room = ft__plan_room(m, plan);
        if (FT__HAS_TRAINING && plan->training)
            count = ft__plan_fit(m, plan, blocks, plan->room, true);
    }
    return count;
}

/* Allocates the plan's memory, if it fits into the budget. */
static void ft__plan_allocate(ft_model *m, ft__plan *plan, const ft__block *blocks, int count,
                              size_t room)
{
    ft__context *c = &m->context;
    int i, again = 0, each_run = 0;
    for (i = 0; i < plan->step_count; ++i) {
        again += plan->steps[i].again;
        each_run += plan->steps[i].each_run;
    }
    if (plan->memory_bytes > room) {
        ft__plan_refuse(m, plan, room);
        return;
    }
    if (FT__HAS_TRAINING && plan->parts)
        ft__log(c, "the memory budget leaves %zu MB for values that would need %zu: %d of %d are"
                " recomputed in backward, so they need %zu", room >> 20, plan->memory_whole >> 20,
                again, plan->step_count, plan->memory_bytes >> 20);
    if (each_run)
        ft__log(c, "the memory budget leaves too little for prepared weights: %d of %d operators"
                " prepare theirs in each run", each_run, plan->step_count);
    plan->workspace = ft__allocate(c, plan->workspace_bytes, 1);
    plan->memory = ft__allocate(c, plan->memory_bytes, 1);
    plan->weights = ft__allocate(c, plan->weight_bytes, 1);
    ft__device_plan(c, plan->memory, plan->memory_bytes);
    ft__device_plan(c, plan->weights, plan->weight_bytes);
    for (i = 0; ft__ok(c) && i < count; ++i)
        *blocks[i].pointer = (char *)plan->memory + blocks[i].offset;
    for (i = 0; ft__ok(c) && i < ft__value_count(m, plan); ++i)
        plan->gradients[i] = plan->gradients[plan->shares[i] - 1];
    if (ft__ok(c)) ft__plan_weights(m, plan);
}

/* Releases the plan for the other purpose; it is made again when it is next needed. */
static void ft__give_up_plan(ft_model *m, bool training)
{
    if (m->last_run == m->plans[training]) m->last_run = NULL;
    ft__plan_free(&m->context, m->plans[training]);
    m->plans[training] = NULL;
}

/* Bytes that making a plan takes, besides the memory that it plans. */
static size_t ft__plan_lists(const ft_model *m)
{
    size_t each = sizeof(ft__step) + 5 * sizeof(ft__block) + 3 * sizeof(void *) + 4 * sizeof(int);
    return sizeof(ft__plan) + ((size_t)m->node_count + (size_t)m->copies + 2) * each
        + (size_t)ft__most_inputs(m) * sizeof(ft__tensor) + 16 * 2 * FT__ALIGNMENT;
}

/* Makes a plan; with `measure`, stops before the large allocations and only computes its bytes. */
static ft__plan *ft__plan_make(ft_model *m, ft__extent most, bool training, bool measure)
{
    static char copy_name[] = "a copy in another layout";
    ft__context *c = &m->context;
    size_t nodes, before;
    ft__plan *plan;
    ft__block *blocks = NULL;
    int count, i;
    ft__choose_layouts(m);
    nodes = (size_t)m->node_count + (size_t)m->copies + 1;
    if (m->plans[!training] && m->plans[!training] != m->in_use
        && ft__memory_left(c) < ft__plan_lists(m)) ft__give_up_plan(m, !training);
    before = c->bytes;
    plan = (ft__plan *)ft__allocate(c, 1, sizeof *plan);
    if (!plan) return NULL;
    plan->training = training;
    plan->most = most;
    plan->version = m->version;
    plan->node_count = m->node_count;
    plan->copy.op = FT__OP_reshape;
    plan->copy.name = copy_name;
    plan->copy.input_count = 1;
    plan->copied = (int *)ft__allocate(c, (size_t)m->copies + 1, sizeof *plan->copied);
    plan->steps = (ft__step *)ft__allocate(c, nodes, sizeof *plan->steps);
    plan->values = (float **)ft__allocate(c, nodes, sizeof *plan->values);
    plan->gradients = (float **)ft__allocate(c, nodes, sizeof *plan->gradients);
    plan->saved = (void **)ft__allocate(c, nodes, sizeof *plan->saved);
    plan->last_reader = (int *)ft__allocate(c, nodes, sizeof *plan->last_reader);
    plan->shares = (int *)ft__allocate(c, nodes, sizeof *plan->shares);
    plan->shared_until = (int *)ft__allocate(c, nodes, sizeof *plan->shared_until);
    plan->reader_end = (int *)ft__allocate(c, nodes, sizeof *plan->reader_end);
    plan->trained = (char *)ft__allocate(c, nodes, 1);
    plan->read_later = (char *)ft__allocate(c, nodes, 1);
    for (i = 0; plan->read_later && i < m->node_count; ++i)
        plan->read_later[i] = (char)((ft__stays(m, i + 1) ? FT__VALUE : 0)
                                     | (ft__wants_gradient(m, plan, i + 1) ? FT__GRADIENT : 0));
    plan->inputs = (ft__tensor *)ft__allocate(c, (size_t)ft__most_inputs(m),
                                              sizeof *plan->inputs);
    if (ft__ok(c)) ft__plan_steps(m, plan);
    if (ft__ok(c)) blocks = (ft__block *)ft__allocate(c, 5 * nodes, sizeof *blocks);
    if (ft__ok(c)) ft__plan_readers(m, plan);
    if (ft__ok(c)) {
        ft__plan_shares(m, plan);
        ft__plan_weights(m, plan);
        ft__list_blocks(m, plan, blocks); /* the workspace */
        count = ft__plan_choose(m, plan, blocks);
        plan->beside = c->bytes - ft__plan_replaces(m, plan);
        if (plan->gives_up && !measure && ft__ok(c)) {
            before -= m->plans[!training]->taken;
            ft__give_up_plan(m, !training);
            plan->gives_up = false;
        }
        if (!measure && ft__ok(c)) ft__plan_allocate(m, plan, blocks, count, plan->room);
    }
    ft__release(c, blocks);
    ft__release(c, plan->reader_end);
    ft__release(c, plan->readers);
    plan->reader_end = plan->readers = NULL;
    plan->taken = c->bytes - before;
    if (ft__ok(c)) return plan;
    ft__plan_free(c, plan);
    return NULL;
}

/* Allocates the gradients of trained parameters, and room for a run of this size in every input. */
static ft_status ft__plan_leaves(ft_model *m, ft__extent extent, bool training)
{
    ft__context *c = &m->context;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (ft__has_rows(node) && !ft__holds(node->capacity, extent)) {
            ft__extent room = ft__larger(node->capacity, extent);
            float *grown;
            if (node->value) /* a state may be newer on the device */
                ft__to_host(c, node->value, ft__node_count_at(node, node->capacity)
                            * sizeof(float));
            grown = (float *)ft__grow(c, node->value, node->value
                                             ? ft__node_count_at(node, node->capacity) : 0,
                                             ft__node_count_at(node, room), sizeof(float));
            if (!grown) return c->status;
            node->value = grown;
            node->capacity = room;
        }
        if (!training || !ft__is_parameter(node) || node->frozen) continue;
        if (ft__own_float32(m, node, true) != FT_OK) return c->status;
        if (node->gradient) continue;
        node->gradient = (float *)ft__allocate(c, ft__node_count_at(node, ft__one), sizeof(float));
    }
    return c->status;
}

/* The plan for evaluation or training, remade if the graph or what is frozen has changed, or if the
   run does not fit into it. */
static ft__plan *ft__plan_for(ft_model *m, ft__extent extent, bool training)
{
    ft__plan *plan = m->plans[training];
    if (ft__plan_leaves(m, extent, training) != FT_OK) return NULL;
    if (plan && plan->version == m->version && ft__holds(plan->most, extent)) return plan;
    if (FT__HAS_DATA && plan && plan == m->in_use) {
        ft__fail(&m->context, FT_INVALID, "a call inside a callback of ft_fit or ft_evaluate would"
                 " replace the plan that is in use: the network was changed, or its batch of %d"
                 " samples is larger than the run's %d", extent.batch, plan->most.batch);
        return NULL;
    }
    if (plan && plan->version == m->version) extent = ft__larger(plan->most, extent);
    if (m->last_run == plan) m->last_run = NULL;
    ft__plan_free(&m->context, plan);
    m->plans[training] = NULL;
    m->plans[training] = ft__plan_make(m, extent, training, false);
    return m->plans[training];
}
