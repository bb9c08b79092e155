/* layout.h - the order of a tensor's numbers: tests count [N, C, H, W] row by row, the operators may
   get [N, H, W, C], or the dimensions in any other order. Written from the definition, independently
   of the header. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdlib.h>
#include <string.h>

#include "finetune.h"

static const int channels_last_order[4] = {0, 2, 3, 1};

/* The index in memory of number k of a tensor of this shape, whose dimensions lie in memory in this
   order, outermost first; NULL: row by row. */
static inline size_t place_of(const ft_shape *s, const int *order, size_t k)
{
    size_t at[8] = {0}, place = 0;
    int d;
    if (!order) return k;
    for (d = s->rank - 1; d >= 0; --d) {
        at[d] = k % (size_t)s->size[d];
        k /= (size_t)s->size[d];
    }
    for (d = 0; d < s->rank; ++d) place = place * (size_t)s->size[order[d]] + at[order[d]];
    return place;
}

/* Converts values from the order in memory to that of the tests, or back. */
static inline void reorder(float *values, const ft_shape *s, const int *order, bool to_memory)
{
    size_t count = 1, k;
    float *copy;
    int d;
    for (d = 0; d < s->rank; ++d) count *= (size_t)s->size[d];
    if (!order) return;
    copy = (float *)malloc(count * sizeof *copy + 1);
    if (!copy) exit(1);
    memcpy(copy, values, count * sizeof *copy);
    for (k = 0; k < count; ++k) {
        size_t at = place_of(s, order, k);
        if (to_memory) values[at] = copy[k];
        else values[k] = copy[at];
    }
    free(copy);
}

#endif
