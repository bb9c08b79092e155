#pragma once

/* =============================================================================================
   [SECTION] basics/sorting: Sorting
   Heap sort of indices (Williams 1964): n log n for any input, without extra memory.
   ============================================================================================= */
typedef bool (*ft__less)(const void *context, int a, int b);

static void ft__sift_down(int *order, int root, int count, ft__less less, const void *context)
{
    int child;
    while ((child = 2 * root + 1) < count) {
        int swap = order[root];
        if (child + 1 < count && less(context, order[child], order[child + 1])) child += 1;
        if (!less(context, swap, order[child])) return;
        order[root] = order[child];
        order[child] = swap;
        root = child;
    }
}

/* `less` must be a strict total order; order[] becomes 0..count-1, sorted by it. */
static void ft__sort_order(int *order, int count, ft__less less, const void *context)
{
    int i;
    for (i = 0; i < count; ++i) order[i] = i;
    for (i = count / 2 - 1; i >= 0; --i) ft__sift_down(order, i, count, less, context);
    for (i = count - 1; i > 0; --i) {
        int swap = order[0];
        order[0] = order[i];
        order[i] = swap;
        ft__sift_down(order, 0, i, less, context);
    }
}
