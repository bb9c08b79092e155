#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"

/* =============================================================================================
   [SECTION] operators/group_norm: Group normalisation
   x [N, C, ...]: per sample and group of C / groups adjacent channels y = h * weight + bias,
   h = (x - mean) * r, r = 1 / sqrt(var + eps) (Wu and He 2018). With g = dy * weight:
       dx = r * (g - mean(g) - h * mean(g h)),  dweight = sum of dy h,  dbias = sum of dy
   Kept from forward: mean and r of each sample's groups. Without weight and bias: 1 and 0.
   ============================================================================================= */
static const ft__field ft__group_norm_fields[] = {
    FT__INT(ft_group_norm_options, groups), FT__FLOAT(ft_group_norm_options, eps),
    FT__NOT_KEPT(ft_group_norm_options, no_affine) FT__NO_MORE_FIELDS};

static int ft__group_count(const ft__node *node)
{
    int groups = node->options.group_norm.groups;
    return groups ? groups : 32;
}

static ft_status ft__group_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    int groups = ft__group_count(node), i;
    char text[80];
    *output = *x;
    if (x->rank < 2 || x->rank > 4 || x->size[1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: expected an input [N, C], [N, C, L] or [N, C, H, W], not"
                        " %s", node->name, ft__shape_text(x, text));
    if (groups < 1 || x->size[1] % groups != 0)
        return ft__fail(c, FT_SHAPE, "%s: %d channels cannot be divided into %d groups",
                        node->name, x->size[1], groups);
    if (input_count == 2)
        return ft__fail(c, FT_INVALID, "%s: it has a weight, but no bias", node->name);
    for (i = 1; i < input_count; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != x->size[1])
            return ft__fail(c, FT_SHAPE, "%s: %s does not fit %d channels", node->name,
                            ft__shape_text(&input[i].shape, text), x->size[1]);
    if (!ft__not_negative(node->options.group_norm.eps))
        return ft__fail(c, FT_INVALID, "%s: eps is %g; it must be 0 or more", node->name,
                        (double)node->options.group_norm.eps);
    return ft__want_numbers(c, node, input, input_count);
}

/* Where a group's numbers are: `outer` lines of `inner` adjacent ones, `step` apart. Channels-last
   a line has the group's channels, else the places of one channel. */
typedef struct ft__groups {
    size_t samples, channels, places, count, each; /* each: channels of one of `count` groups */
    size_t outer, inner, step;
    bool channels_last;
} ft__groups;

static ft__groups ft__groups_of(const ft__call *call)
{
    const ft__tensor *x = &call->input[0];
    ft__groups g;
    g.samples = (size_t)x->shape.size[0];
    g.channels = (size_t)x->shape.size[1];
    g.places = ft__count(x) / (g.samples * g.channels);
    g.count = (size_t)ft__group_count(call->node);
    g.each = g.channels / g.count;
    g.channels_last = x->channels_last;
    g.outer = g.channels_last ? g.places : g.each;
    g.inner = g.channels_last ? g.each : g.places;
    g.step = g.channels_last ? g.channels : g.places;
    return g;
}

/* The first number of group `index` of all samples' groups. */
static size_t ft__group_start(const ft__groups *g, size_t index)
{
    size_t channel = index % g->count * g->each;
    return index / g->count * g->channels * g->places
        + channel * (g->channels_last ? 1 : g->places);
}

static void ft__group_norm_costs(const ft__call *call, ft__costs *costs)
{
    ft__groups g = ft__groups_of(call);
    costs->saved = 2 * g.samples * g.count * sizeof(float);
    costs->workspace = call->training ? 2 * g.samples * g.channels * sizeof(float) : 0;
}

static void ft__group_norm_forward_one(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__groups g = ft__groups_of(call);
    size_t start = ft__group_start(&g, (size_t)index), first = (size_t)index % g.count * g.each;
    const float *x = call->input[0].value + start;
    const float *weight = call->input_count > 1 ? call->input[1].value + first : NULL;
    const float *bias = call->input_count > 1 ? call->input[2].value + first : NULL;
    float *y = call->output.value + start, *saved = (float *)call->saved + 2 * index, r;
    double sum = 0, squares = 0, mean, all = (double)(g.outer * g.inner);
    size_t o, i;
    for (o = 0; o < g.outer; ++o)
        for (i = 0; i < g.inner; ++i) sum += (double)x[o * g.step + i];
    mean = sum / all;
    for (o = 0; o < g.outer; ++o)
        for (i = 0; i < g.inner; ++i) {
            double d = (double)x[o * g.step + i] - mean;
            squares += d * d;
        }
    r = (float)(1 / sqrt(squares / all + (double)ft__eps_of(call->node->options.group_norm.eps)));
    saved[0] = (float)mean;
    saved[1] = r;
    for (o = 0; o < g.outer; ++o)
        for (i = 0; i < g.inner; ++i) {
            size_t at = o * g.step + i, channel = g.channels_last ? i : o;
            float h = (x[at] - saved[0]) * r;
            y[at] = weight ? h * weight[channel] + bias[channel] : h;
        }
}

static void ft__group_norm_forward(const ft__call *call)
{
    ft__groups g = ft__groups_of(call);
    ft__parallel(call->context, (int)(g.samples * g.count), ft__group_norm_forward_one,
                 (void *)(uintptr_t)call);
}

/* dx of one group, and its sample's part of dweight and dbias. */
static void ft__group_norm_backward_one(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__groups g = ft__groups_of(call);
    size_t start = ft__group_start(&g, (size_t)index), first = (size_t)index % g.count * g.each;
    const float *x = call->input[0].value + start, *dy = call->output.gradient + start;
    const float *weight = call->input_count > 1 ? call->input[1].value + first : NULL;
    const float *saved = (const float *)call->saved + 2 * index;
    float *parts = call->workspace + 2 * ((size_t)index / g.count * g.channels + first);
    float mean_g, mean_gh, *dx = call->input[0].gradient;
    double sum_g = 0, sum_gh = 0, all = (double)(g.outer * g.inner);
    size_t o, i;
    memset(parts, 0, 2 * g.each * sizeof *parts);
    for (o = 0; o < g.outer; ++o)
        for (i = 0; i < g.inner; ++i) {
            size_t at = o * g.step + i, channel = g.channels_last ? i : o;
            float h = (x[at] - saved[0]) * saved[1];
            float d = weight ? dy[at] * weight[channel] : dy[at];
            sum_g += (double)d;
            sum_gh += (double)(d * h);
            parts[2 * channel] += dy[at] * h;
            parts[2 * channel + 1] += dy[at];
        }
    if (!dx) return;
    mean_g = (float)(sum_g / all);
    mean_gh = (float)(sum_gh / all);
    for (o = 0; o < g.outer; ++o)
        for (i = 0; i < g.inner; ++i) {
            size_t at = o * g.step + i, channel = g.channels_last ? i : o;
            float h = (x[at] - saved[0]) * saved[1];
            float d = weight ? dy[at] * weight[channel] : dy[at], *to = dx + start + at;
            *to = (call->input[0].fresh ? 0 : *to) + saved[1] * (d - mean_g - h * mean_gh);
        }
}

static void ft__group_norm_backward(const ft__call *call)
{
    ft__groups g = ft__groups_of(call);
    size_t n, c;
    int which;
    ft__parallel(call->context, (int)(g.samples * g.count), ft__group_norm_backward_one,
                 (void *)(uintptr_t)call);
    for (which = 0; which < call->input_count - 1; ++which) {
        const ft__tensor *t = &call->input[1 + which];
        if (!t->gradient) continue;
        if (t->fresh) memset(t->gradient, 0, g.channels * sizeof(float));
        for (n = 0; n < g.samples; ++n)
            for (c = 0; c < g.channels; ++c)
                t->gradient[c] += call->workspace[2 * (n * g.channels + c) + (size_t)which];
    }
}

/* In files: `group_norm` | x; or x, weight and bias, both [C] | `groups` 32, `eps` 1e-5 */
static const ft__row ft__row_group_norm = {
    FT__NAMED(group_norm), 1, 3,
    FT__READS_X | FT__WRITES | FT__WRITES_ALL | FT__WEIGHTS | FT__ANY_LAYOUT,
    ft__group_norm_shape, ft__group_norm_forward, FT__BACKWARD(ft__group_norm_backward),
    ft__group_norm_costs, ft__group_norm_fields, NULL};

ft_node ft_group_norm(ft_model *m, const char *name, ft_node x, ft_group_norm_options options)
{
    ft_node inputs[3], none = {0};
    if (!ft__usable(m) || !FT__HAS(m, CONVOLUTION)) return none;
    inputs[0] = x;
    if (!options.no_affine && !ft__affine_inputs(m, name, inputs, ft__size_of(m, name, x, 1)))
        return none;
    return ft__add_node(m, &ft__row_group_norm, name, inputs, options.no_affine ? 1 : 3, &options,
                        sizeof options);
}
