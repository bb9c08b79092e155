#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/linear.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/reduce.h"
#include "operators/token_counts.h"
#include "operators/rows.h"
#include "networks/images.h"
#include "networks/text.h"

/* =============================================================================================
   [SECTION] networks/bag_of_words: A bag of words
   Logistic regression on which words a text has: a row of TF-IDF weights, count * idf, divided by
   its length (scikit-learn's TfidfTransformer), and a linear layer. ft_finetune fits it, and "idf",
   by training/bag_of_words.
   ============================================================================================= */
static ft_node ft__build_bag_of_words(ft__builder *b)
{
    ft_model *m = b->m;
    ft_token_counts_options counts;
    ft_parameter_options idf;
    ft_reduce_options rows;
    ft_linear_options linear;
    ft_node x, lengths, length;
    memset(&counts, 0, sizeof counts);
    memset(&idf, 0, sizeof idf);
    memset(&rows, 0, sizeof rows);
    memset(&linear, 0, sizeof linear);
    ft__text_defaults(b, 0, 0, 0);
    counts.words = idf.size[0] = b->o.words;
    idf.initialiser = FT_INIT_ONES;
    idf.buffer = true;
    lengths = ft__tokens_input(m, "lengths", false);
    x = ft_token_counts(m, "counts", ft__tokens_input(m, "tokens", true), lengths, counts);
    x = ft_mul(m, "weighted", x, ft_parameter(m, "idf", idf));
    rows.axes[0] = -1;
    rows.count = 1;
    rows.keep = true;
    length = ft__at_least(m, "length", ft_reduce(m, "norm", NULL, x, rows), 1e-12f);
    x = ft_binary(m, "div", "tf_idf", x, length); /* a text without words stays 0 */
    return ft__text_end(m, ft_linear(m, "fc", x, b->o.classes, linear), false);
}

static bool ft__matches_bag_of_words(const ft__network *network, const ft_file *file,
                                     const char *rename, ft_network_options *o)
{
    (void)network;
    o->words = ft__size_in_file(file, rename, "idf", 0);
    o->classes = ft__size_in_file(file, rename, "fc.weight", 0);
    return o->words > 0 && o->classes > 0
        && ft__size_in_file(file, rename, "fc.weight", 1) == o->words;
}

/* The node that counts the tokens, if the network is a bag of words; NULL. */
static const ft__node *ft__bag_counts(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_any(&m->nodes[i]) && ft__is(&m->nodes[i], FT__COUNTS)) return &m->nodes[i];
    return NULL;
}
