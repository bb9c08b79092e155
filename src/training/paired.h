#pragma once
#include "platform/context.h"
#include "basics/random.h"
#include "basics/sorting.h"
#include "training/correlation.h"
#include "training/measures.h"

/* =============================================================================================
   [SECTION] training/paired: Which choices differ, measured on the same samples
   Two networks that were scored on the same samples are compared sample by sample: if they are
   equally good, each difference has either sign equally often (Fisher 1935). Of right and wrong
   answers this is McNemar's test (1947) in its exact form. Several comparisons at once: Holm 1979.
   ============================================================================================= */
enum { FT__SIGN_DRAWS = 9999 };

/* The share of sign patterns of these whole numbers, none 0, whose sum is at least as far from 0 as
   the sum of all: the distribution of the sum grows by one number at a time. `total`: the sum of
   their sizes; `p`, `q` [2 * total + 1] are room. */
static double ft__signs_exactly(const double *d, int count, int total, double *p, double *q)
{
    double seen = 0, share = 0;
    int reach = 0, i, x;
    memset(p, 0, (2 * (size_t)total + 1) * sizeof *p);
    p[total] = 1;
    for (i = 0; i < count; ++i) {
        int size = (int)(d[i] < 0 ? -d[i] : d[i]);
        seen += d[i];
        for (x = -reach - size; x <= reach + size; ++x) {
            double below = x - size >= -reach ? p[total + x - size] : 0;
            double above = x + size <= reach ? p[total + x + size] : 0;
            q[total + x] = (below + above) / 2;
        }
        reach += size;
        memcpy(p + total - reach, q + total - reach, (2 * (size_t)reach + 1) * sizeof *p);
    }
    for (x = -total; x <= total; ++x)
        if (fabs((double)x) >= fabs(seen)) share += p[total + x];
    return share < 1 ? share : 1;
}

/* The same of any numbers, from random patterns, always the same ones. The pattern that was seen
   counts as one of them (Phipson and Smyth 2010). */
static double ft__signs_drawn(const double *d, int count)
{
    double seen = 0, all = 0, sum;
    int draws = count > 20000 ? 999 : FT__SIGN_DRAWS, as_far = 1, draw, i;
    uint64_t bits = 0;
    for (i = 0; i < count; ++i) {
        seen += d[i];
        all += fabs(d[i]);
    }
    for (draw = 0; draw < draws; ++draw) {
        uint64_t key = ft__key(1, (uint64_t)draw, 0, FT__USE_BOOTSTRAP);
        for (sum = 0, i = 0; i < count; ++i, bits >>= 1) {
            if (i % 64 == 0) bits = ft__random(key, (uint64_t)i / 64);
            sum += bits & 1 ? d[i] : -d[i];
        }
        as_far += fabs(sum) >= fabs(seen) - 1e-12 * all; /* the order of a sum changes its bits */
    }
    return (double)as_far / (draws + 1);
}

/* The two-sided p-value of the hypothesis that differences have either sign equally often: exactly
   if they are whole numbers. Drops the zeros from d, which say nothing. */
static double ft__sign_flip(ft__context *c, double *d, int count)
{
    double total = 0, p = 1, *room;
    bool whole = true;
    int left = 0, i;
    for (i = 0; i < count; ++i) {
        if (d[i] == 0) continue;
        d[left] = d[i];
        total += fabs(d[left]);
        if (fabs(d[left]) > 1e6 || d[left] != (double)(int)d[left]) whole = false;
        left += 1;
    }
    if (left == 0) return 1;
    if (!whole || total * left > 1e8) return ft__signs_drawn(d, left);
    room = (double *)ft__allocate(c, 4 * (size_t)total + 2, sizeof *room);
    if (room) p = ft__signs_exactly(d, left, (int)total, room, room + 2 * (size_t)total + 1);
    ft__release(c, room);
    return p;
}

/* Makes p-values of `count` comparisons such that, if each below 0.05 is called a difference, the
   chance of one or more wrong calls among all is at most 0.05. `order` is room. */
static void ft__holm(double *p, int count, int *order)
{
    double most = 0;
    int i;
    ft__sort_order(order, count, ft__lower_number, p);
    for (i = 0; i < count; ++i) {
        double q = p[order[i]] * (count - i);
        if (q > most) most = q;
        p[order[i]] = most < 1 ? most : 1;
    }
}

/* The 95 % interval of the mean of `count` numbers: the bootstrap's (Efron 1979), from the 2.5th to
   the 97.5th percentile of 1000 draws with replacement. */
static void ft__mean_interval(ft__context *c, const double *x, int count, double *low,
                              double *high)
{
    enum { DRAWS = 1000 };
    double *means = (double *)ft__allocate(c, DRAWS, sizeof *means);
    int *order = (int *)ft__allocate(c, DRAWS, sizeof *order), draw, i;
    for (draw = 0; means && order && draw < DRAWS; ++draw) {
        uint64_t key = ft__key(2, (uint64_t)draw, 0, FT__USE_BOOTSTRAP);
        for (i = 0; i < count; ++i)
            means[draw] += x[ft__random(key, (uint64_t)i) % (uint64_t)count] / count;
    }
    if (means && order) {
        ft__sort_order(order, DRAWS, ft__lower_number, means);
        *low = ft__quantile(means, order, DRAWS, 0.025);
        *high = ft__quantile(means, order, DRAWS, 0.975);
    }
    ft__release(c, order);
    ft__release(c, means);
}
