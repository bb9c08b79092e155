#pragma once
#include "platform/context.h"
#include "basics/sorting.h"

/* =============================================================================================
   [SECTION] training/correlation: Pearson's and Spearman's correlation
   ============================================================================================= */

/* Pearson's correlation of two lists; 0 where one is constant. */
static double ft__pearson(const double *a, const double *b, int count)
{
    double mean_a = 0, mean_b = 0, ab = 0, aa = 0, bb = 0;
    int i;
    for (i = 0; i < count; ++i) { /* a sum of equal floats is exact: their mean is, too */
        mean_a += a[i];
        mean_b += b[i];
    }
    mean_a /= count > 0 ? count : 1;
    mean_b /= count > 0 ? count : 1;
    for (i = 0; i < count; ++i) {
        ab += (a[i] - mean_a) * (b[i] - mean_b);
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
    }
    return aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
}

static bool ft__lower_number(const void *context, int a, int b)
{
    const double *values = (const double *)context;
    return values[a] != values[b] ? values[a] < values[b] : a < b;
}

/* The rank of each value, from 1; equal values share the mean of theirs. `order` has room for as
   many. */
static void ft__ranks(const double *values, int count, int *order, double *ranks)
{
    int i, j, k;
    ft__sort_order(order, count, ft__lower_number, values);
    for (i = 0; i < count; i = j) {
        for (j = i + 1; j < count && values[order[j]] == values[order[i]]; ++j) {}
        for (k = i; k < j; ++k) ranks[order[k]] = (i + 1 + j) / 2.0;
    }
}

/* Spearman's correlation: Pearson's of the ranks. 0 with an error. */
static double ft__spearman(ft__context *c, const double *a, const double *b, int count)
{
    double *ranks = (double *)ft__allocate(c, 2 * (size_t)count + 1, sizeof *ranks), result = 0;
    int *order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *order);
    if (ft__ok(c)) {
        ft__ranks(a, count, order, ranks);
        ft__ranks(b, count, order, ranks + count);
        result = ft__pearson(ranks, ranks + count, count);
    }
    ft__release(c, order);
    ft__release(c, ranks);
    return result;
}
