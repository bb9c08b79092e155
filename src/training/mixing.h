#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "kernels/rotary.h"
#include "nodes/nodes.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "graph/plan.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/mixing: Balanced sampling, mixup and CutMix
   What a batch is made of, besides its samples' views. All of it is a function of (seed, epoch,
   step), so that a resumed run draws the same.
   ============================================================================================= */

/* ---- Balanced sampling ---- */

/* Sorts the training samples by class. */
static ft_status ft__fit_balanced(ft__fit *f)
{
    ft__context *c = &f->m->context;
    const ft_source *source = &f->data->source;
    int classes = source->classes, with = 0, fewest = INT_MAX, i, k, at = 0;
    if (!f->o.balanced_sampling) return c->status;
    if (!source->label || classes < 1 || source->streams > 0)
        return ft__fail(c, FT_INVALID, "ft_fit: balanced_sampling: the data has no labels of"
                        " classes");
    f->starts = (int *)ft__allocate(c, (size_t)classes + 1, sizeof *f->starts);
    f->grouped = (int *)ft__allocate(c, (size_t)f->train_count, sizeof *f->grouped);
    if (!ft__ok(c)) return c->status;
    for (k = 0; k < classes; ++k) {
        int first = at;
        for (i = 0; i < f->train_count; ++i)
            if (source->label(source->user, f->train[i]) == k) f->grouped[at++] = f->train[i];
        f->starts[k + 1] = at;
        if (at > first) with += 1;
        if (at > first && at - first < fewest) fewest = at - first;
    }
    if (at == 0)
        return ft__fail(c, FT_INVALID, "ft_fit: balanced_sampling: no sample has a class");
    ft__log(c, "balanced_sampling: each of %d classes is drawn %d times in an epoch; the smallest"
            " has %d %s to train on", with, f->train_count / with, fewest,
            ft__data_samples(f->data));
    return c->status;
}

/* An epoch's order: each class as often as the others. What the division leaves over goes to
   classes from a random one on. A class's samples come in random orders, one after another.
   f->order is a permutation of 0 to train_count - 1: of the draws. */
static void ft__balanced_order(ft__fit *f, int epoch)
{
    uint64_t seed = f->m->context.desc.seed;
    int classes = f->data->source.classes, total = f->train_count, with = 0, at = 0;
    int first, k, i;
    int *drawn = f->work, *shuffled = f->work + total;
    uint64_t key = ft__key(seed, (uint64_t)epoch, 0, FT__USE_BALANCE);
    for (k = 0; k < classes; ++k) with += f->starts[k + 1] > f->starts[k];
    first = (int)(ft__random(key, 0) % (uint64_t)with); /* the first class that gets one more */
    for (i = 0, k = 0; k < classes; ++k) {
        const int *of_class = f->grouped + f->starts[k];
        int size = f->starts[k + 1] - f->starts[k], wanted, n;
        uint64_t turn = 0;
        if (size == 0) continue;
        wanted = total / with + ((i - first + with) % with < total % with);
        i += 1;
        for (n = 0; n < wanted; ++n) {
            if (n % size == 0)
                ft__shuffle(shuffled, size,
                            ft__key(seed, (uint64_t)epoch, (uint64_t)k,
                                    FT__USE_BALANCE + (++turn << 8)));
            drawn[at++] = of_class[shuffled[n % size]];
        }
    }
    for (i = 0; i < total; ++i) f->order[i] = drawn[f->order[i]];
}

/* A sample that was drawn before in this epoch is seen in another view. */
static void ft__other_views(ft__fit *f, int epoch)
{
    int *seen = f->work, i;
    memset(seen, 0, (size_t)f->data->source.count * sizeof *seen);
    for (i = 0; i < f->train_count; ++i) {
        int turn = seen[f->order[i]]++;
        f->views[i] = f->cache.on ? 1 + (epoch + turn) % f->cache.views
                                  : 1 + epoch + turn * f->o.epochs;
    }
}

/* ---- Mixup and CutMix ---- */

/* The logarithm of a gamma variate (Marsaglia and Tsang 2000), which for a small shape is too small
   for a number. */
static double ft__log_gamma_draw(double shape, uint64_t key)
{
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3.0, c = 1 / sqrt(9 * d), v = 1, u;
    double smaller = 0;
    uint64_t i;
    if (shape < 1) smaller = ft__log_double(1 - (double)ft__uniform(key, 1)) / shape;
    for (i = 1; i < 64; ++i) {
        double x = (double)ft__normal(key, 100 + i);
        v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        if (v <= 0) continue;
        u = 1 - (double)ft__uniform(key, 1 + i);
        if (ft__log_double(u) < 0.5 * x * x + d * (1 - v + ft__log_double(v))) break;
        v = 1;
    }
    return ft__log_double(d * v) + smaller;
}

/* A number of Beta(alpha, alpha). */
static double ft__beta_draw(double alpha, uint64_t key)
{
    double x = ft__log_gamma_draw(alpha, ft__mix(key + 1));
    double y = ft__log_gamma_draw(alpha, ft__mix(key + 2));
    double z = y - x;
    return z > 600 ? 0 : z < -600 ? 1 : 1 / (1 + ft__exp_double(z));
}

/* v2.CutMix: a box of 1 - `own` of the area about a random point, less what lies outside; the
   share of the sample before is what is left. */
static void ft__draw_box(double own, int width, int height, uint64_t key, ft__mixing *mixing)
{
    double r = 0.5 * sqrt(1 - own);
    int x = (int)(ft__random(key, 0) % (uint64_t)width), across = (int)(r * width);
    int y = (int)(ft__random(key, 1) % (uint64_t)height), down = (int)(r * height);
    mixing->left = x - across > 0 ? x - across : 0;
    mixing->top = y - down > 0 ? y - down : 0;
    mixing->right = x + across < width ? x + across : width;
    mixing->bottom = y + down < height ? y + down : height;
    mixing->other = (double)(mixing->right - mixing->left)
        * (double)(mixing->bottom - mixing->top) / ((double)width * height);
}

/* [count, each]: each sample becomes a mean of itself and the one before; the first has the last
   before it. `spare` has room for one. */
static void ft__mix_samples(float *x, int count, size_t each, double other, float *spare)
{
    float own_share = (float)(1 - other), share = (float)other;
    size_t i;
    int n;
    memcpy(spare, x + (size_t)(count - 1) * each, each * sizeof *x);
    for (n = count - 1; n >= 0; --n) {
        float *to = x + (size_t)n * each;
        const float *before = n > 0 ? to - each : spare;
        for (i = 0; i < each; ++i) to[i] = before[i] * share + to[i] * own_share;
    }
}

/* [count, channels, height, width]: a box of each sample comes from the one before. */
static void ft__cut_samples_in(float *x, int count, int channels, int height, int width,
                               const ft__mixing *mixing, float *spare)
{
    size_t plane = (size_t)height * (size_t)width, each = plane * (size_t)channels;
    size_t row = (size_t)(mixing->right - mixing->left) * sizeof *x;
    int n, c, y;
    memcpy(spare, x + (size_t)(count - 1) * each, each * sizeof *x);
    for (n = count - 1; n >= 0; --n) {
        float *to = x + (size_t)n * each;
        const float *before = n > 0 ? to - each : spare;
        for (c = 0; c < channels; ++c)
            for (y = mixing->top; y < mixing->bottom; ++y) {
                size_t at = (size_t)c * plane + (size_t)y * (size_t)width + (size_t)mixing->left;
                memcpy(to + at, before + at, row);
            }
    }
}

/* Mixes the batch that is about to be fed. Its values are the loader's, and fed once. */
static void ft__mix_batch(ft__fit *f, const ft__batch *batch)
{
    const ft__mixing *mixing = &f->mixing;
    float *spare = (float *)f->mixing_spare;
    int s;
    for (s = 0; s < f->loader->slot_count; ++s) {
        const ft_slot *slot = &f->loader->slots[s];
        float *x = (float *)batch->values[s];
        if (slot->type != FT_F32) continue; /* labels */
        if (mixing->cut)
            ft__cut_samples_in(x, batch->count, slot->shape.size[0], slot->shape.size[1],
                               slot->shape.size[2], mixing, spare);
        else ft__mix_samples(x, batch->count, ft__shape_count(&slot->shape), mixing->other, spare);
    }
}

/* The first input that CutMix cuts a box from: all have its height and width. */
static const ft__node *ft__first_picture(const ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_input(&m->nodes[i]) && m->nodes[i].type == FT_F32
            && m->nodes[i].shape.rank == 4) return &m->nodes[i];
    return NULL;
}

/* Draws how the batch of this step is mixed. */
static void ft__draw_mixing(ft__fit *f)
{
    ft__mixing *mixing = &f->mixing;
    uint64_t key = ft__key(f->m->context.desc.seed, (uint64_t)f->at.epoch, (uint64_t)f->at.step,
                           FT__USE_MIX);
    bool both = f->o.mixup > 0 && f->o.cutmix > 0;
    memset(mixing, 0, sizeof *mixing);
    if (f->o.mixup <= 0 && f->o.cutmix <= 0) return;
    mixing->on = true;
    mixing->cut = both ? ft__random(key, 0) % 2 == 1 : f->o.cutmix > 0;
    mixing->other = 1 - ft__beta_draw((double)(mixing->cut ? f->o.cutmix : f->o.mixup),
                                      ft__random(key, 1));
    if (mixing->cut) {
        const ft__node *picture = ft__first_picture(f->m);
        ft__draw_box(1 - mixing->other, picture->shape.size[3], picture->shape.size[2],
                     ft__random(key, 2), mixing);
    }
}

static ft_status ft__mixing_shares(ft__context *c, const char *call, float mixup, float cutmix)
{
    if (mixup >= 0 && mixup <= 1000 && cutmix >= 0 && cutmix <= 1000) return c->status;
    return ft__fail(c, FT_INVALID, "%s: mixup is %g and cutmix %g; they must be 0 to 1000", call,
                    (double)mixup, (double)cutmix);
}

/* Can the network's inputs and loss be mixed? Makes room for it. */
static ft_status ft__fit_mixes(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    const ft__node *loss = &m->nodes[m->loss.id - 1], *first = ft__first_picture(m);
    const ft__node *labels = loss->input_count > 1 ? &m->nodes[loss->inputs[1] - 1] : NULL;
    size_t most = 0, count;
    int i;
    if (ft__mixing_shares(c, "ft_fit", f->o.mixup, f->o.cutmix) != FT_OK
        || (f->o.mixup <= 0 && f->o.cutmix <= 0)) return c->status;
    if (!ft__is(loss, FT__TWO_LABELS) || !labels || labels->shape.rank != 1)
        return ft__fail(c, FT_INVALID, "ft_fit: mixup and cutmix need ft_cross_entropy of one label"
                        " a sample");
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        bool picture = node->shape.rank == 4 && first
            && node->shape.size[2] == first->shape.size[2]
            && node->shape.size[3] == first->shape.size[3];
        if (!ft__is_input(node) || node == labels) continue;
        if (node->type != FT_F32 || ft__has_length(node) || (f->o.cutmix > 0 && !picture))
            return ft__fail(c, FT_INVALID, "ft_fit: %s: mixup needs inputs of numbers without"
                            " FT_LENGTH, cutmix pictures of one size", node->name);
        count = ft__node_count_at(node, ft__one);
        if (count > most) most = count;
    }
    f->mixing_spare = ft__allocate(c, most + 1, sizeof(float));
    return c->status;
}
