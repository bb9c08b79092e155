/* layout.h - the order of a picture's numbers: tests count [N, C, H, W] row by row, the operators
   get [N, H, W, C]. Written from the definition, independently of the header. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdlib.h>
#include <string.h>

#include "finetune.h"

/* The index in memory of number k of a tensor of this shape. */
static inline size_t place_of(const ft_shape *s, bool channels_last, size_t k)
{
    size_t c, h, w, C, H, W;
    if (!channels_last) return k;
    C = (size_t)s->size[1];
    H = (size_t)s->size[2];
    W = (size_t)s->size[3];
    w = k % W;
    h = k / W % H;
    c = k / (W * H) % C;
    return ((k / (W * H * C) * H + h) * W + w) * C + c;
}

/* Converts values from channels-last memory to the order of the tests, or back. */
static inline void reorder(float *values, const ft_shape *s, bool channels_last, bool to_memory)
{
    size_t count = 1, k;
    float *copy;
    int d;
    for (d = 0; d < s->rank; ++d) count *= (size_t)s->size[d];
    if (!channels_last) return;
    copy = (float *)malloc(count * sizeof *copy + 1);
    if (!copy) exit(1);
    memcpy(copy, values, count * sizeof *copy);
    for (k = 0; k < count; ++k) {
        size_t at = place_of(s, true, k);
        if (to_memory) values[at] = copy[k];
        else values[k] = copy[at];
    }
    free(copy);
}

#endif
