#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/averages: Fit: averages of the weights
   Of a device the weights are fetched for each update of the average: the processor adds.
   The mean of the weights before and after a fit is WiSE-FT (Wortsman et al. 2022): the network
   stays more accurate on data unlike what it was trained on.
   ============================================================================================= */

/* Does training change it? Trained parameters, and the statistics of batch norms being trained. */
static bool ft__changes(const ft_model *m, const ft__node *node)
{
    return ft__is_weight(node) && !ft__node_is_frozen(m, node);
}

/* Makes room for the averages, or gives it back. */
static ft_status ft__averages_allocate(ft_model *m, bool wanted)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        ft__release(&m->context, node->average);
        node->average = NULL;
        if (wanted && ft__changes(m, node))
            node->average = (float *)ft__allocate(&m->context, ft__node_count_at(node, ft__one),
                                                  sizeof(float));
    }
    return m->context.status;
}

/* Takes the weights into the average: average += share * (weights - average). */
static void ft__average_weights(ft__fit *f)
{
    ft_model *m = f->m;
    float share = f->at.averaged == 0 ? 1 : f->o.swa ? 1 / (float)(f->at.averaged + 1)
        : 1 - f->o.ema;
    int i;
    if (!ft__ok(&m->context)) return;
    ft__host_takes_weights(&m->context, false);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one), k;
        for (k = 0; node->average && k < count; ++k)
            node->average[k] += share * (node->value[k] - node->average[k]);
    }
    f->at.averaged += 1;
}

/* Exchanges weights and averages, to measure or to keep these; once more brings them back. */
static void ft__exchange_averages(ft__fit *f)
{
    ft_model *m = f->m;
    int i;
    if (f->at.averaged == 0) return;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one), k;
        for (k = 0; node->average && k < count; ++k) {
            float value = node->value[k];
            node->value[k] = node->average[k];
            node->average[k] = value;
        }
    }
    m->weights_version += 1;
}

/* ---- The mean of the weights before and after a fit ---- */

/* Keeps the weights before the fit, or releases them. */
static ft_status ft__keep_start(ft_model *m, bool wanted)
{
    int i;
    if (wanted) ft__host_takes_weights(&m->context, false);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one);
        ft__release(&m->context, node->start);
        node->start = NULL;
        if (wanted && ft__changes(m, node))
            node->start = (float *)ft__allocate(&m->context, count, sizeof(float));
        if (node->start) memcpy(node->start, node->value, count * sizeof(float));
    }
    return m->context.status;
}

/* Sets the weights to share * those that were kept + (1 - share) * those before the fit. */
static void ft__average_start(ft_model *m, float share)
{
    int i;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one), k;
        for (k = 0; node->start && node->kept && k < count; ++k)
            node->value[k] = share < 1 ? node->start[k] + share * (node->kept[k] - node->start[k])
                                       : node->kept[k];
    }
    m->weights_version += 1;
}
