#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"

/* =============================================================================================
   [SECTION] operators/common: Shared by many operators
   Checks of inputs, an axis of a tensor, and the layout of numbers in memory.
   ============================================================================================= */
/* A weight in another type, for those who read it; NULL: it is float32. */
static const ft__stored *ft__stored_weight(const ft__tensor *weight)
{
    return weight->typed.at ? &weight->typed : NULL;
}

/* Fails if an input does not hold floats: operators cannot compute with labels. */
static ft_status ft__want_numbers(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int count)
{
    int i;
    for (i = 0; i < count; ++i)
        if (input[i].type != FT_F32)
            return ft__fail(c, FT_SHAPE, "%s: input %d is %s, but must be F32", node->name, i + 1,
                            ft__type_names[input[i].type]);
    return FT_OK;
}

static ft_status ft__same_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                int input_count, ft_shape *output)
{
    *output = input[0].shape;
    return ft__want_numbers(c, node, input, input_count);
}

/* Sets a gradient to zero, for an operator that may overwrite it but adds. */
static void ft__zero_chunk(void *context, int index)
{
    const ft__tensor *t = (const ft__tensor *)context;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(t) - at;
    memset(t->gradient + at, 0, (count < FT__CHUNK ? count : FT__CHUNK) * sizeof(float));
}

static void ft__zero(ft__context *c, const ft__tensor *t)
{
    ft__parallel(c, ft__chunks(ft__count(t)), ft__zero_chunk, (void *)(uintptr_t)t);
}

/* How many lines of so many numbers one index of a parallel loop takes. */
static size_t ft__lines_at_once(size_t numbers)
{
    return numbers < FT__CHUNK ? FT__CHUNK / numbers : 1;
}

typedef struct ft__axis { size_t outer, size, inner; } ft__axis;

/* 0 means the last axis, -1 too. */
static int ft__given_axis(int axis, int rank)
{
    return axis == 0 ? rank - 1 : axis < 0 ? axis + rank : axis;
}

static int ft__axis_of(const ft__node *node, int rank)
{
    return ft__given_axis(node->options.activation.axis, rank);
}

static const int ft__channels_last_order[4] = {0, 2, 3, 1}; /* N, H, W, C */

/* The tensor's dimension that is number `at` in memory, outermost first. */
static int ft__memory_dimension(const ft__tensor *t, int at)
{
    if (t->order) return t->order[at];
    return t->channels_last && at < 4 ? ft__channels_last_order[at] : at;
}

/* A norm's eps; 0 means PyTorch's default. */
static float ft__eps_of(float eps) { return eps > 0 ? eps : 1e-5f; }

/* The position of an axis in memory; a tensor's sizes in memory order. */
static int ft__memory_axis(const ft__tensor *t, int axis)
{
    int at = 0;
    while (at < t->shape.rank && ft__memory_dimension(t, at) != axis) at += 1;
    return at;
}

static ft_shape ft__memory_shape(const ft__tensor *t)
{
    ft_shape shape = t->shape;
    int at;
    for (at = 0; at < shape.rank; ++at)
        shape.size[at] = t->shape.size[ft__memory_dimension(t, at)];
    return shape;
}

static ft__axis ft__split_axis(const ft_shape *shape, int axis)
{
    ft__axis a = {1, 1, 1};
    int d;
    for (d = 0; d < shape->rank; ++d) {
        size_t size = (size_t)shape->size[d];
        if (d < axis) a.outer *= size;
        else if (d == axis) a.size = size;
        else a.inner *= size;
    }
    return a;
}

/* The index in memory of number `i` of a sample in the user's order. */
static size_t ft__memory_place(const ft__tensor *t, size_t i)
{
    size_t plane;
    if (!t->channels_last) return i;
    plane = (size_t)t->shape.size[2] * (size_t)t->shape.size[3];
    return i % plane * (size_t)t->shape.size[1] + i / plane;
}

/* The strides in memory of the user's dimensions. */
static void ft__memory_steps(const ft__tensor *t, size_t *steps)
{
    size_t step = 1;
    int at;
    for (at = t->shape.rank - 1; at >= 0; --at) {
        int d = ft__memory_dimension(t, at);
        steps[d] = step;
        step *= (size_t)t->shape.size[d];
    }
}

/* ---- Padding of a window: top, left, bottom, right ---- */

/* The padding of a side; the first is that of all sides if the others are 0. */
static int ft__padding(const int padding[4], int side)
{
    bool uniform = !padding[1] && !padding[2] && !padding[3];
    return padding[uniform ? 0 : side];
}

/* ---- Weights of samples, of a model's loss ---- */

static float ft__sample_weight(const ft__call *call, size_t n)
{
    return call->sample_weights ? call->sample_weights[n] : 1.0f;
}

/* The sum of the samples' weights; 1 if it is 0, so that such a batch has loss 0, not NaN. */
static double ft__sum_of_weights(const ft__call *call, size_t samples)
{
    double sum = 0;
    size_t n;
    for (n = 0; n < samples; ++n) sum += (double)ft__sample_weight(call, n);
    return call->sample_weights && sum == 0 ? 1 : sum;
}

/* A call and its direction, for permute's and gather's samples. */
typedef struct ft__either_way { const ft__call *call; bool backward; } ft__either_way;
