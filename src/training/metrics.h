#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/softmax.h"
#include "nodes/nodes.h"
#include "operators/losses.h"
#include "devices/opencl_memory.h"
#include "graph/plan.h"
#include "data/sources.h"
#include "data/text_streams.h"

/* =============================================================================================
   [SECTION] training/metrics: Metrics
   ============================================================================================= */

/* Wilson 1927: the interval in which the true share lies with 95 % confidence, from `correct` of
   `total`; unlike the usual plus-or-minus it stays within [0, 1] and is right for small sets. */
static void ft__wilson(int correct, int total, double *low, double *high)
{
    const double z = 1.959963984540054; /* the normal distribution's 97.5 % quantile */
    double n = total, p, middle, half;
    *low = 0;
    *high = 1;
    if (total < 1) return;
    p = correct / n;
    middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    *low = middle - half > 0 ? middle - half : 0;
    *high = middle + half < 1 ? middle + half : 1;
}

/* The first of the largest of `count` scores. */
static int ft__largest(const float *scores, int count)
{
    int best = 0, i;
    for (i = 1; i < count; ++i)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* The same, with vectors: the largest is found first, then where it stands. */
static int ft__guess(const ft__context *c, const float *scores, int count)
{
    float largest;
    int i = 0;
    ft__find_largest[c->simd](scores, (size_t)count, &largest);
    while (i + 1 < count && scores[i] != largest) ++i;
    return scores[i] == largest ? i : 0; /* NaN stands first */
}

/* Sums over samples; what an epoch or an evaluation reports. */
typedef struct ft__score { double loss; int64_t correct, total; } ft__score;

/* The labels that a batch of the output's rows is held against; 0: there are none. */
static size_t ft__scored_rows(const ft_model *m, int batch)
{
    const ft__node *output = m->output.id ? &m->nodes[m->output.id - 1] : NULL;
    const ft__node *loss = m->loss.id ? &m->nodes[m->loss.id - 1] : NULL;
    const ft__node *labels = loss && loss->input_count > 1 ? &m->nodes[loss->inputs[1] - 1] : NULL;
    if (!labels || labels->type != FT_I32 || !output || output->shape.rank < 2) return 0;
    return ft__node_count_at(labels, ft__extent_of(m, batch));
}

/* Adds a batch that was just run: its mean loss over the labels that count, and how many of them
   the output got right. Without labels each sample counts. */
static void ft__score_batch(ft_model *m, const ft__plan *plan, int batch, float loss,
                            int *confusion, ft__score *score)
{
    const ft__node *output = ft__get_node(m, m->output), *loss_node = ft__get_node(m, m->loss);
    const float *logits = m->output.id ? plan->values[m->output.id - 1] : NULL;
    const int32_t *labels = NULL;
    size_t count = ft__scored_rows(m, batch), i;
    int classes, counted = 0;
    if (logits)
        ft__to_host(&m->context, logits,
                    ft__node_count_at(output, ft__extent_of(m, batch)) * sizeof(float));
    if (count) labels = (const int32_t *)(const void *)m->nodes[loss_node->inputs[1] - 1].value;
    classes = output ? output->shape.size[output->shape.rank - 1] : 0;
    for (i = 0; i < count; ++i) {
        int label = labels[i];
        int guess = ft__guess(&m->context, logits + i * (size_t)classes, classes);
        if (ft__is_ignored(label)) continue;
        counted += 1;
        if (guess == label) score->correct += 1;
        if (confusion && label >= 0 && label < classes) confusion[label * classes + guess] += 1;
    }
    if (count == 0) counted = batch;
    score->loss += (double)loss * counted;
    score->total += counted;
}

/* The classes of data and model must be the same number before they meet. */
static ft_status ft__check_classes(ft_model *m, const ft_data *data)
{
    const ft__node *output = ft__get_node(m, m->output);
    int has = ft_data_classes(data);
    if (ft__streams_check(m, data) != FT_OK || !output || output->shape.rank != 2 || has == 0)
        return m->context.status;
    if (has > output->shape.size[1])
        return ft__fail(&m->context, FT_SHAPE, "the data has %d classes, the network's output %d:"
                        " call ft_replace_head", has, output->shape.size[1]);
    return FT_OK;
}
