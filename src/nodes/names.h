#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"

/* =============================================================================================
   [SECTION] nodes/names: Nodes by name
   A hash table with chains, so that the time to build a network of many nodes, which may come from
   a file, is proportional to its size. Its seed is an address, so that the author of a file cannot
   choose names that share a chain.
   ============================================================================================= */
static int *ft__name_chain(const ft_model *m, const char *name)
{
    uint64_t hash = ft__hash_bytes((uint64_t)(uintptr_t)m, name, strlen(name));
    return &m->chains[(size_t)ft__mix(hash) & m->chain_mask];
}

static ft_node ft__find_node(const ft_model *m, const char *name)
{
    ft_node node = {0};
    if (!m || !m->chains) return node;
    node.id = *ft__name_chain(m, name);
    while (node.id && strcmp(m->nodes[node.id - 1].name, name) != 0)
        node.id = m->nodes[node.id - 1].chained;
    return node;
}

static void ft__list_node(ft_model *m, int id)
{
    int *chain = ft__name_chain(m, m->nodes[id - 1].name);
    m->nodes[id - 1].chained = *chain;
    *chain = id;
}

/* Call it before a node that was removed from the network is released. */
static void ft__unlist_node(ft_model *m, int id)
{
    int *at = ft__name_chain(m, m->nodes[id - 1].name);
    while (*at && *at != id) at = &m->nodes[*at - 1].chained;
    if (*at) *at = m->nodes[id - 1].chained;
}

/* Makes room in the table for so many nodes. */
static bool ft__grow_names(ft_model *m, int nodes)
{
    size_t size = 64;
    int *chains, i;
    while (size < (size_t)nodes) size *= 2;
    if (m->chains && m->chain_mask + 1 >= size) return true;
    chains = (int *)ft__allocate(&m->context, size, sizeof *chains);
    if (!chains) return false;
    ft__release(&m->context, m->chains);
    m->chains = chains;
    m->chain_mask = size - 1;
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].name) ft__list_node(m, i + 1);
    return true;
}
