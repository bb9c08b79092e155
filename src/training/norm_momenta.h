#pragma once
#include "interface/types.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "graph/plan.h"

/* =============================================================================================
   [SECTION] training/norm_momenta: Momenta of batch norms while their statistics are renewed
   With a momentum of 1/k for the k-th batch the running statistics are the means over the batches.
   ============================================================================================= */

/* Whether a node is a batch norm whose statistics are to be renewed. */
static bool ft__is_renewed(const ft_model *m, const ft__node *node, const char *glob)
{
    return ft__is(node, FT__STATISTICS) && !ft__norm_frozen(m, node)
        && ft__glob(glob, node->name);
}

/* Keeps the norms' own momenta in `own` [nodes], -1 for other nodes, and returns how many norms
   there are. */
static int ft__keep_momenta(const ft_model *m, const char *glob, float *own)
{
    int i, count = 0;
    for (i = 0; i < m->node_count; ++i) {
        bool renewed = ft__is_renewed(m, &m->nodes[i], glob);
        own[i] = renewed ? m->nodes[i].options.batch_norm.momentum : -1;
        count += renewed;
    }
    return count;
}

/* Sets the momenta for the k-th batch; k 0: those that were kept. */
static void ft__set_momenta(ft_model *m, const float *own, int k)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (own[i] >= 0)
            m->nodes[i].options.batch_norm.momentum = k ? 1.0f / (float)k : own[i];
}
