#pragma once
#include "platform/context.h"
#include "basics/sorting.h"

/* =============================================================================================
   [SECTION] training/correlation: Pearson's and Spearman's correlation
   ============================================================================================= */

/* Pearson's correlation of two lists, each pair with its weight (NULL: 1); 0 and false where one
   list is constant. */
static bool ft__weighted_pearson(const double *a, const double *b, const double *weight, int count,
                                 double *to)
{
    double all = 0, mean_a = 0, mean_b = 0, ab = 0, aa = 0, bb = 0;
    int i;
    for (i = 0; i < count; ++i) { /* a sum of equal floats is exact: their mean is, too */
        double w = weight ? weight[i] : 1;
        all += w;
        mean_a += w * a[i];
        mean_b += w * b[i];
    }
    mean_a /= all > 0 ? all : 1;
    mean_b /= all > 0 ? all : 1;
    for (i = 0; i < count; ++i) {
        double w = weight ? weight[i] : 1;
        ab += w * (a[i] - mean_a) * (b[i] - mean_b);
        aa += w * (a[i] - mean_a) * (a[i] - mean_a);
        bb += w * (b[i] - mean_b) * (b[i] - mean_b);
    }
    *to = aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
    return aa > 0 && bb > 0;
}

static double ft__pearson(const double *a, const double *b, int count)
{
    double r;
    ft__weighted_pearson(a, b, NULL, count, &r);
    return r;
}

static bool ft__lower_number(const void *context, int a, int b)
{
    const double *values = (const double *)context;
    return values[a] != values[b] ? values[a] < values[b] : a < b;
}

/* The rank of each value, from 1; equal values share the mean of theirs. `order` sorts them; one
   with a weight (NULL: 1) counts so often. */
static void ft__ranks(const double *values, const double *weight, int count, const int *order,
                      double *ranks)
{
    double before = 0, here;
    int i, j;
    for (i = 0; i < count; before += here) {
        int first = i;
        for (here = 0; i < count && (i == first || values[order[i]] == values[order[first]]); ++i)
            here += weight ? weight[order[i]] : 1;
        for (j = first; j < i; ++j) ranks[order[j]] = before + (here + 1) / 2;
    }
}

/* Spearman's correlation: Pearson's of the ranks. 0 with an error. */
static double ft__spearman(ft__context *c, const double *a, const double *b, int count)
{
    double *ranks = (double *)ft__allocate(c, 2 * (size_t)count + 1, sizeof *ranks), result = 0;
    int *order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *order);
    if (ft__ok(c)) {
        ft__sort_order(order, count, ft__lower_number, a);
        ft__ranks(a, NULL, count, order, ranks);
        ft__sort_order(order, count, ft__lower_number, b);
        ft__ranks(b, NULL, count, order, ranks + count);
        result = ft__pearson(ranks, ranks + count, count);
    }
    ft__release(c, order);
    ft__release(c, ranks);
    return result;
}
