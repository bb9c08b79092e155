#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/taking: Numbers that are taken from places along each axis
   y[n, i, j, ..] = x[n, from1[i], from2[j], ..]: what the borders of pad, tile, and gather by one
   list have in common. Backward adds each number of dy to its place in dx.
   ============================================================================================= */
typedef struct ft__taking {
    const ft__call *call;
    bool backward;
    float outside;          /* the value where a place is none, -1 */
    const int *from[FINETUNE_MAX_RANK]; /* of y's dimensions as they lie in memory; not the batch */
    size_t step[FINETUNE_MAX_RANK]; /* in x, of these dimensions */
    ft_shape y;             /* in memory */
} ft__taking;

/* Fills in the places in x, which has `size` of them, of y's `count` numbers along dimension d. */
typedef void (*ft__take_places)(const ft__call *call, int d, int size, int count, int *from);

static void ft__take_costs(const ft__call *call, ft__costs *costs)
{
    int d;
    for (d = 1; d < call->output.shape.rank; ++d)
        costs->workspace += (size_t)call->output.shape.size[d] * sizeof(int);
}

/* The line of y along its last dimension in memory that begins at `at` in it. */
static void ft__take_line(const ft__taking *t, size_t sample, size_t at)
{
    int last = t->y.rank - 1, d, i;
    size_t width = (size_t)t->y.size[last], rest = at / width, place = sample * t->step[0];
    bool inside = true;
    for (d = last - 1; d > 0; --d) {
        int from = t->from[d][rest % (size_t)t->y.size[d]];
        rest /= (size_t)t->y.size[d];
        if (from < 0) inside = false;
        else place += (size_t)from * t->step[d];
    }
    at += sample * (ft__count(&t->call->output) / (size_t)t->y.size[0]);
    for (i = 0; i < t->y.size[last]; ++i) {
        bool there = inside && t->from[last][i] >= 0;
        size_t in_x = place + (there ? (size_t)t->from[last][i] * t->step[last] : 0);
        if (!t->backward)
            t->call->output.value[at + (size_t)i] = there ? t->call->input[0].value[in_x]
                                                          : t->outside;
        else if (there)
            t->call->input[0].gradient[in_x] += t->call->output.gradient[at + (size_t)i];
    }
}

static void ft__take_sample(void *context, int sample)
{
    const ft__taking *t = (const ft__taking *)context;
    size_t all = ft__count(&t->call->output) / (size_t)t->y.size[0], at;
    for (at = 0; at < all; at += (size_t)t->y.size[t->y.rank - 1])
        ft__take_line(t, (size_t)sample, at);
}

/* x and y have two dimensions or more, and lie in memory alike. */
static void ft__take(const ft__call *call, ft__take_places places, float outside, bool backward)
{
    int *room = (int *)(void *)call->workspace, at;
    size_t steps[FINETUNE_MAX_RANK];
    ft__taking t;
    memset(&t, 0, sizeof t);
    if (backward && !call->input[0].gradient) return;
    t.call = call;
    t.backward = backward;
    t.outside = outside;
    t.y = ft__memory_shape(&call->output);
    ft__memory_steps(&call->input[0], steps);
    t.step[0] = steps[0];
    for (at = 1; at < t.y.rank; ++at) {
        int d = ft__memory_dimension(&call->output, at);
        t.step[at] = steps[d];
        t.from[at] = room;
        places(call, d, call->input[0].shape.size[d], t.y.size[at], room);
        room += t.y.size[at];
    }
    ft__parallel(call->context, t.y.size[0], ft__take_sample, &t);
}
