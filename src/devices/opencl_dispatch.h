#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "kernels/bf16.h"
#include "nodes/operators.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/common.h"
#include "operators/recurrent.h"
#include "operators/rows.h"
#include "devices/device.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_program.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"
#include "devices/opencl_recurrent.h"

/* =============================================================================================
   [SECTION] devices/opencl_dispatch: OpenCL: where an operator runs
   ============================================================================================= */

#ifdef FINETUNE_OPENCL
/* ---- The table's rows: what runs on a device ---- */
FT__NO_KERNELS(none)
#define FT__NO_DEVICE_ROW_AT(name) &ft__cl_row_none,
#define FT__DEVICE_ROW_AT(name) &ft__cl_row_##name,
static const ft__device_row *const ft__device_rows[] = {
    FT__LEAVES(FT__NO_DEVICE_ROW_AT) FT__OPERATORS(FT__DEVICE_ROW_AT, FT__DEVICE_ROW_AT)};

static const size_t ft__most_on_device = (size_t)1 << 30; /* kernels index with int */

static bool ft__has_kernels(const ft__call *call)
{
    int op = call->node->op, i;
    if (!ft__device_rows[op]->forward) return false;
    for (i = 0; i < call->input_count; ++i)
        if (ft__count(&call->input[i]) > ft__most_on_device) return false;
    if (ft__is(call->node, FT__RECURRENT) && ft__recurrent_kept(call) > ft__most_on_device)
        return false;
    return ft__count(&call->output) <= ft__most_on_device;
}

/* ---- The check: before an operator's kernels are used for a shape, they are compared with the
   processor on two samples of random numbers, and, with ft_desc.clock, timed ---- */

typedef struct ft__trial {  /* an operator with its own memory */
    ft__call call;
    ft__tensor input[12];
    void *blocks[32];
    int block_count;
} ft__trial;

/* Whether an input has a row for each sample; weights do not, whatever their first size is. */
static bool ft__has_samples(const ft__call *call, int input)
{
    const ft_shape *x = &call->input[0].shape, *shape = &call->input[input].shape;
    if (input == 0) return true;
    if (ft__is(call->node, FT__RECURRENT)) {
        ft__recurrent r = ft__recurrent_of(call);
        return input > (int)r.directions * r.per_direction;
    }
    if (ft__is(call->node, FT__WEIGHTS) || shape->size[0] != x->size[0]) return false;
    return !ft__is(call->node, FT__BROADCASTS) || shape->rank == x->rank;
}

/* Lengths between two powers of two share a verdict, or every length would need a trial. */
static int ft__length_class(int length)
{
    int bits = 0;
    while (bits < 31 && length >> bits) bits += 1;
    return -bits;
}

/* A tensor's dimensions as they lie in memory, in one number. */
static int ft__order_of(const ft__tensor *t)
{
    int order = 0, at;
    for (at = 0; at < t->shape.rank; ++at) order = 8 * order + ft__memory_dimension(t, at);
    return order;
}

/* The key of a verdict: the operator, its options, and all shapes but the batch. */
static uint64_t ft__call_key(const ft__call *call)
{
    uint64_t key = ft__hash_bytes(0, &call->node->options, sizeof call->node->options);
    const char *name = ft__rows[call->node->op]->name;
    int header[2], i, d;
    header[0] = call->input_count;
    header[1] = ft__order_of(&call->output);
    key = ft__hash_bytes(key, header, sizeof header);
    key = ft__hash_bytes(key, name, strlen(name));
    if (call->fused) key = ft__hash_bytes(key, call->fused->name, strlen(call->fused->name));
    for (i = 0; i < call->input_count; ++i) {
        ft_shape shape = call->input[i].shape;
        bool samples = ft__has_samples(call, i);
        int order = ft__order_of(&call->input[i]);
        if (samples) shape.size[0] = 0;
        for (d = 1; samples && d < shape.rank; ++d)
            if (shape.size[d] == call->length) shape.size[d] = ft__length_class(call->length);
        key = ft__hash_bytes(key, &shape, sizeof shape);
        key = ft__hash_bytes(key, &order, sizeof order);
    }
    return key;
}

static float *ft__trial_memory(ft__trial *t, size_t count)
{
    void *block = ft__allocate(t->call.context, count + 1, sizeof(float));
    if (block) t->blocks[t->block_count++] = block;
    return (float *)block;
}

static void ft__trial_fill(float *to, size_t count, uint64_t use, float low)
{
    size_t i;
    uint64_t key = ft__key(7, use, 0, 0);
    for (i = 0; to && i < count; ++i) to[i] = low + (1 - low) * ft__uniform(key, i);
}

/* Fills in labels, words, indices or lengths: valid for the operator, and not all the same. */
static void ft__trial_integers(const ft__call *call, ft__tensor *x)
{
    const ft__device_row *row = ft__device_rows[call->node->op];
    size_t count = ft__count(x), k;
    size_t most = (size_t)(row->below ? row->below(call) : call->input[0].shape.size[1] + 1);
    for (k = 0; x->value && k < count; ++k) /* the first of lengths is the full one */
        ft__integers(x)[k] = (int32_t)((k * 7 + most - 1) % most);
}

/* A verdict on two samples holds for any batch, except of a recurrent layer: its steps wait for
   each other, so that with two samples on a GPU only the waiting would be timed. */
static int ft__trial_samples(const ft__call *call)
{
    const ft__device *d = call->context->device;
    int batch = call->input[0].shape.size[0];
    int few = ft__mixes_samples(call->node, &call->input[0].shape, &call->output.shape) ? batch
        : ft__is(call->node, FT__RECURRENT) && call->context->desc.clock
        && !d->place.is_processor ? 32 : 2;
    return batch < few ? batch : few;
}

/* Makes a call of the same operator on at most `most` samples. */
static bool ft__trial_of(ft__trial *t, const ft__call *call, int most)
{
    ft__context *c = call->context;
    int batch = call->input[0].shape.size[0], few = batch < most ? batch : most, i;
    const ft__row *row = ft__rows[call->node->op];
    bool moves = ft__is(call->node, FT__STATISTICS), recurs = ft__is(call->node, FT__RECURRENT);
    ft__costs costs = {0, 0, 0, 0, 0};
    bool carried;
    size_t count;
    memset(t, 0, sizeof *t);
    if (call->input_count > (int)(sizeof t->input / sizeof t->input[0])) return false;
    t->call = *call;
    t->call.input = t->input;
    t->call.training = true; /* so that there is room for backward */
    for (i = 0; i < call->input_count; ++i) {
        ft__tensor *x = &t->input[i];
        *x = call->input[i];
        if (ft__has_samples(call, i)) x->shape.size[0] = few;
        carried = (i >= 3 && moves) /* forward changes it: a state */
            || (recurs && call->node->options.recurrent.carry && i > 0
                && ft__has_samples(call, i));
        count = ft__count(x);
        x->fresh = false;
        x->value = ft__trial_memory(t, count);
        x->gradient = x->type == FT_F32 && !carried ? ft__trial_memory(t, count) : NULL;
        ft__trial_fill(x->value, count, (uint64_t)i, i == 4 && moves ? 0.5f : -1);
        if (x->type == FT_I32) ft__trial_integers(call, x);
    }
    t->call.output.shape = call->output.shape;
    if (t->call.output.shape.size[0] == batch && ft__count(&call->output) > 1)
        t->call.output.shape.size[0] = few;
    count = ft__count(&t->call.output);
    t->call.output.value = ft__trial_memory(t, count);
    t->call.output.gradient = ft__trial_memory(t, count);
    ft__trial_fill(t->call.output.gradient, count, 9, -1);
    if (row->costs) row->costs(&t->call, &costs);
    t->call.saved = ft__trial_memory(t, costs.saved / sizeof(float));
    t->call.workspace = ft__trial_memory(t, costs.workspace / sizeof(float));
    t->call.prepared = NULL;
    t->call.training = call->training || ft__is(call->node, FT__NOISE | FT__RECURRENT);
    return ft__ok(c);
}

static bool ft__trial_make(ft__trial *t, const ft__call *call)
{
    return ft__trial_of(t, call, ft__trial_samples(call));
}

static void ft__trial_free(ft__trial *t)
{
    while (t->block_count > 0) ft__release(t->call.context, t->blocks[--t->block_count]);
}

/* Runs forward and backward in one form; returns the seconds that they took. */
static double ft__trial_run(const ft__trial *t, int form)
{
    const ft__call *call = &t->call;
    const ft__device_row *row = ft__device_rows[call->node->op];
    ft__device *d = call->context->device;
    const ft_desc *desc = &call->context->desc;
    double start;
    d->form = form;
    if (form != FT__FORM_PROCESSOR) d->cl.clFinish(d->queue);
    start = desc->clock ? desc->clock(desc->clock_user) : 0;
    if (form == FT__FORM_PROCESSOR) {
        ft__rows[call->node->op]->forward(call);
        if (ft__rows[call->node->op]->backward) ft__rows[call->node->op]->backward(call);
    } else {
        row->forward(call);
        if (row->backward) row->backward(call);
        d->cl.clFinish(d->queue);
    }
    return desc->clock ? desc->clock(desc->clock_user) - start : 0;
}

/* The reference for the device: the processor's results in float32, whatever the precision. */
static bool ft__trial_exact(ft__trial *t, const ft__call *call)
{
    ft__context *c = call->context;
    int precision = c->precision;
    bool made;
    c->precision = FT__FLOAT32;
    made = ft__trial_make(t, call);
    if (made) ft__trial_run(t, FT__FORM_PROCESSOR);
    c->precision = precision;
    return made;
}

/* The largest difference of two arrays, relative to the largest number. NaN counts as 1e9, unless
   both have it, as log does of a negative number. */
static float ft__apart(const float *a, const float *b, size_t count)
{
    float largest = 0, apart = 0;
    size_t i;
    for (i = 0; a && i < count; ++i) {
        float d = (float)fabs((double)a[i] - (double)b[i]);
        if (a[i] == b[i] || (a[i] != a[i] && b[i] != b[i])) continue;
        if (!(d <= 3e38f)) return 1e9f;
        if (d > apart) apart = d;
        if (fabs((double)a[i]) > (double)largest) largest = (float)fabs((double)a[i]);
    }
    return apart / (largest > 1e-3f ? largest : 1e-3f); /* near 0, 1e-6 is rounding */
}

static float ft__trial_error(const ft__trial *host, const ft__trial *device)
{
    ft__context *c = host->call.context;
    const ft__tensor *y = &device->call.output;
    float error, worst;
    int i;
    ft__to_host(c, y->value, ft__count(y) * sizeof(float));
    worst = ft__apart(host->call.output.value, y->value, ft__count(y));
    for (i = 0; i < host->call.input_count; ++i) {
        const ft__tensor *x = &device->input[i];
        bool state = !x->gradient && x->type == FT_F32;
        const float *got = state ? x->value : x->gradient;
        if (!got) continue;
        ft__to_host(c, got, ft__count(x) * sizeof(float));
        error = ft__apart(state ? host->input[i].value : host->input[i].gradient, got,
                          ft__count(x));
        if (error > worst) worst = error;
    }
    return ft__ok(c) ? worst : 1e9f;
}

/* Whether a form can compute it. */
static bool ft__form_fits(const ft__call *call, int form)
{
    const ft__device_row *row = ft__device_rows[call->node->op];
    return row->fits ? row->fits(call, form) : form == call->context->device->usual_form;
}

/* An error in a trial is not an error of the run: the form is left out. */
static float ft__try_form(const ft__call *call, const ft__trial *host, int form, double *seconds)
{
    ft__context *c = call->context;
    ft__trial trial;
    float error = 1e9f;
    int again;
    if (ft__trial_make(&trial, call)) {
        ft__trial_run(&trial, form);
        error = ft__trial_error(host, &trial);
        *seconds = 1e9;
        for (again = 0; again < 2 && c->desc.clock && ft__ok(c); ++again) {
            double took = ft__trial_run(&trial, form);
            if (took < *seconds) *seconds = took;
        }
    }
    if (!ft__forgive(c, call->node->name)) error = 1e9f;
    ft__trial_free(&trial);
    return error;
}

/* The processor's seconds, measured like the device's: the faster of two runs after a first one. */
static double ft__host_seconds(const ft__call *call)
{
    ft__trial trial;
    double best = 0, seconds;
    int again;
    if (!call->context->desc.clock) return 0;
    if (ft__trial_make(&trial, call))
        for (again = 0; again < 3; ++again) {
            seconds = ft__trial_run(&trial, FT__FORM_PROCESSOR);
            if (again < 2 || seconds < best) best = seconds;
        }
    ft__trial_free(&trial);
    return best;
}

/* The largest error that counts as rounding, relative to the largest value: a hundred times that of
   float32, a few times that of factors of 11 or 8 bits. */
static float ft__wrong(const ft__device *d, int form)
{
    if (form != FT__FORM_TENSOR) return 1e-3f;
    return d->tensor == FT__TENSOR_TF32 ? 4e-3f : 32e-3f;
}

/* Tries every form that fits and keeps the first correct one or, with a clock, the fastest. A
   device that is a processor was requested by name: its kernels may be slower than the host. */
static void ft__judge(const ft__call *call, ft__verdict *v)
{
    static const int forms[] = {FT__FORM_TENSOR, FT__FORM_TILED, FT__FORM_WIDE, FT__FORM_BLOCK,
                                FT__FORM_WINOGRAD, FT__FORM_CLBLAST, FT__FORM_PLAIN};
    ft__context *c = call->context;
    ft__device *d = c->device;
    double seconds = 0, best = 1e9;
    float error, worst = 0;
    ft__trial host;
    size_t i;
    v->form = FT__FORM_PROCESSOR;
    v->why = "its kernels could not be compared";
    if (!ft__trial_exact(&host, call)) return;
    v->why = "its kernels do not support this device or shape";
    v->host_seconds = ft__host_seconds(call);
    for (i = 0; i < sizeof forms / sizeof forms[0]; ++i) {
        if (!ft__form_fits(call, forms[i])) continue;
        if (v->form >= 0 && (!c->desc.clock || forms[i] == FT__FORM_PLAIN)) continue;
        error = ft__try_form(call, &host, forms[i], &seconds);
        if (error > worst) worst = error;
        if (!(error <= ft__wrong(d, forms[i]))) {
            v->why = "its kernels give wrong results here";
            ft__log(c, "%s (%s): variant %d of its kernels gives wrong results on %s: the error is"
                    " %.3g of the largest value", ft__rows[v->op]->name, call->node->name, forms[i],
                    d->name, (double)error);
        } else if (v->form < 0 || seconds < best) {
            v->form = forms[i];
            v->error = error;
            best = v->device_seconds = seconds;
        }
    }
    ft__trial_free(&host);
    if (v->form < 0) v->error = worst;
    if (v->form >= 0 && c->desc.clock && !d->place.is_processor && best > v->host_seconds) {
        ft__log(c, "%s (%s) is slower on %s: %.3g s for two samples, the CPU needs %.3g",
                ft__rows[v->op]->name, call->node->name, d->name, best, v->host_seconds);
        v->form = FT__FORM_PROCESSOR;
        v->why = "it is faster there";
    }
}

/* ---- Tuning: finds the sizes of tiles that suit the device. Each is tried in forward and backward
   of one convolution, 3 x 3, 64 to 128 channels, as in the middle of a ResNet: compared with the
   processor on two samples, then timed on a batch. The cost is bounded: no other one is begun after
   FT__TUNING_SECONDS, and one costs a small program's compilation and six such runs; then the best
   is compiled once more, to be kept. ---- */

#define FT__TUNING_SECONDS 1.0

typedef struct ft__tuning { ft__node node; ft__tensor input[3]; ft__call call; } ft__tuning;

static void ft__tuning_make(ft__context *c, ft__tuning *t)
{
    static const int sizes[3][4] = {{32, 64, 28, 28}, {128, 64, 3, 3}, {128, 0, 0, 0}};
    static char name[] = "tuning";
    bool quick = c->device->place.is_processor; /* in tests, where each run would take seconds */
    int i;
    memset(t, 0, sizeof *t);
    t->node.op = FT__OP_conv2d;
    t->node.name = name;
    for (i = 0; i < 2; ++i) {
        t->node.options.conv2d.kernel[i] = 3;
        t->node.options.conv2d.stride[i] = t->node.options.conv2d.dilation[i] = 1;
    }
    for (i = 0; i < 4; ++i) t->node.options.conv2d.padding[i] = 1;
    t->node.options.conv2d.groups = 1;
    for (i = 0; i < 3; ++i) {
        t->input[i].shape.rank = i < 2 ? 4 : 1;
        memcpy(t->input[i].shape.size, sizes[i], sizeof sizes[i]);
    }
    if (quick) t->input[0].shape.size[2] = t->input[0].shape.size[3] = 8;
    t->call.context = c;
    t->call.node = &t->node;
    t->call.input = t->input;
    t->call.input_count = 3;
    t->call.output.shape = t->input[0].shape;
    t->call.output.shape.size[1] = 128;
    t->input[0].channels_last = t->call.output.channels_last = true;
    t->call.training = true;
}

/* Seconds of the faster of two runs, after a first one; 1e9: it cannot run. */
static double ft__tile_seconds(const ft__tuning *t)
{
    ft__context *c = t->call.context;
    ft__trial trial;
    double best = 1e9, seconds;
    int again;
    if (ft__trial_of(&trial, &t->call, c->device->place.is_processor ? 2 : 32))
        for (again = 0; again < 3 && ft__ok(c); ++again) {
            seconds = ft__trial_run(&trial, FT__FORM_TILED);
            if (again > 0 && seconds < best) best = seconds;
        }
    ft__trial_free(&trial);
    return ft__forgive(c, "tiled products") ? best : 1e9;
}

/* Tries the sizes and uses the fastest correct one. */
static void ft__tune(ft__context *c)
{
    ft__device *d = c->device;
    double start = c->desc.clock(c->desc.clock_user), best = 1e9, seconds;
    int tile, fastest = 0;
    float error;
    ft__tuning t;
    ft__trial host;
    ft__tuning_make(c, &t);
    if (ft__trial_make(&host, &t.call)) ft__trial_run(&host, FT__FORM_PROCESSOR);
    for (tile = 0; ft__ok(c) && tile < FT__TILE_COUNT; ++tile) {
        if (tile > 0 && c->desc.clock(c->desc.clock_user) - start > FT__TUNING_SECONDS) break;
        if (!ft__use_tile(c, tile, true)) continue;
        error = ft__try_form(&t.call, &host, FT__FORM_TILED, &seconds);
        if (!(error <= ft__wrong(d, FT__FORM_TILED))) {
            ft__log(c, "tile size %d of the matrix products gives wrong results on %s: the error is"
                    " %.3g of the largest value", tile, d->name, (double)error);
            continue;
        }
        seconds = ft__tile_seconds(&t);
        if (seconds < best) fastest = tile;
        if (seconds < best) best = seconds;
    }
    ft__trial_free(&host);
    if (!ft__forgive(c, "tiled products") || !ft__use_tile(c, fastest, false))
        ft__take_tile(c, 0, NULL);
    ft__log(c, "tiled products on %s: %d of %d tile sizes were tried, number %d is used", d->name,
            tile, (int)FT__TILE_COUNT, d->tile);
}

/* Before the first tiled product: uses an earlier run's sizes or, with a clock, finds them now. */
static void ft__tune_once(ft__context *c)
{
    ft__device *d = c->device;
    int kept;
    if (d->tuned || d->usual_form != FT__FORM_TILED) return;
    d->tuned = true;
    kept = ft__tile_kept(c);
    if (kept >= 0 && ft__use_tile(c, kept, false)) return;
    if (!c->desc.clock) return;
    ft__tune(c);
    ft__tile_keep(c);
}

static const ft__verdict *ft__add_verdict(ft__context *c, const ft__verdict *v)
{
    ft__device *d = c->device;
    if (d->verdict_count == d->verdict_capacity) {
        int capacity = d->verdict_capacity ? 2 * d->verdict_capacity : 64;
        ft__verdict *grown = (ft__verdict *)ft__grow(c, d->verdicts, (size_t)d->verdict_count,
                                                     (size_t)capacity, sizeof *grown);
        if (!grown) return NULL;
        d->verdicts = grown;
        d->verdict_capacity = capacity;
    }
    d->verdicts[d->verdict_count] = *v;
    return &d->verdicts[d->verdict_count++];
}

/* The verdict on an operator; the first call makes it. */
static const ft__verdict *ft__verdict_of(const ft__call *call)
{
    ft__context *c = call->context;
    ft__device *d = c->device;
    uint64_t key = ft__call_key(call);
    ft__verdict v;
    char text[80];
    int i;
    for (i = 0; i < d->verdict_count; ++i)
        if (d->verdicts[i].key == key) return &d->verdicts[i];
    memset(&v, 0, sizeof v);
    v.key = key;
    v.op = call->node->op;
    snprintf(v.shape, sizeof v.shape, "%.47s", ft__shape_text(&call->input[0].shape, text));
    d->checking = true;
    if (ft__is(call->node, FT__PRODUCT | FT__RECURRENT)) ft__tune_once(c);
    ft__judge(call, &v);
    d->checking = false;
    return ft__add_verdict(c, &v);
}

/* Why an operator runs on the processor; NULL: it runs on the device. */
static const char *ft__cl_obstacle(const ft__call *call)
{
    ft__device *d = call->context->device;
    const ft__verdict *verdict;
    if (!ft__device_rows[call->node->op]->forward) return "it has no kernel";
    if (call->sample_weights || call->class_weights || call->other_share != 0)
        return "its kernels do not take weights of samples or classes, or two labels";
    if (!ft__has_kernels(call)) return "it has too many numbers for its kernels";
    if (d->unchecked) return NULL;
    verdict = ft__verdict_of(call);
    if (!verdict) return "there is no memory to compare its kernels";
    if (verdict->form == FT__FORM_PROCESSOR) return verdict->why;
    d->form = verdict->form;
    return NULL;
}

static bool ft__cl_runs(const ft__call *call)
{
    ft__context *c = call->context;
    const ft__node *node = call->node;
    const char *obstacle;
    if (!ft__ok(c)) return false;
    obstacle = ft__cl_obstacle(call);
    if (obstacle && ft__ok(c) && !c->device->said[node->op]) {
        c->device->said[node->op] = 1;
        ft__log(c, "%s (%s) runs on the CPU: %s", ft__rows[node->op]->name, node->name, obstacle);
    }
    return !obstacle;
}

static void ft__cl_run(const ft__call *call, bool backward)
{
    const ft__device_row *row = ft__device_rows[call->node->op];
    (backward ? row->backward : row->forward)(call);
}

static void ft__cl_activation_back(const ft__call *call)
{
    ft__cl_slopes(call, call->fused, call->fused_options, &call->output, call->output.gradient,
                  true);
}

/* ---- The choices, for a checkpoint: `,"device":NAME,"tile":[sizes],"choices":[key,form,...]`
   ---- */

static void ft__cl_add_choices(const ft__context *c, ft__text *text)
{
    const ft__device *d = c->device;
    const ft__tile *tile = &ft__cl_tiles[d->tile];
    int i;
    ft__text_add(text, ",\"device\":");
    ft__json_add_text(text, d->name);
    ft__text_add(text, ",\"tile\":[%d,%d,%d,%d]", tile->group, tile->y, tile->x, tile->depth);
    ft__text_add(text, ",\"choices\":[");
    for (i = 0; i < d->verdict_count; ++i)
        ft__text_add(text, "%s%lld,%d", i ? "," : "", (long long)d->verdicts[i].key,
                     d->verdicts[i].form);
    ft__text_add(text, "]");
}

static void ft__cl_read_tile(ft__context *c, ft__json *json, const char *path)
{
    int list = ft__json_member(json, 0, "tile"), i, tile;
    int64_t sizes[4] = {0, 0, 0, 0};
    ft__tile t;
    for (i = 0; i < 4; ++i) ft__json_int(json, ft__json_element(json, list, i), &sizes[i]);
    t.group = (int)sizes[0];
    t.y = (int)sizes[1];
    t.x = (int)sizes[2];
    t.depth = (int)sizes[3];
    tile = ft__tile_of(&t);
    c->device->tuned = true;
    if (tile < 0 || (tile != c->device->tile && !ft__use_tile(c, tile, false)))
        ft__log(c, "%s: its tile sizes are not available here: the run continues, but its last bits"
                " may differ", path);
}

static bool ft__cl_read_choices(ft__context *c, ft__json *json, const char *name, const char *path)
{
    ft__device *d = c->device;
    int list = ft__json_member(json, 0, "choices"), i;
    int64_t key = 0, form = 0;
    if (strcmp(name, d->name) != 0) return false;
    ft__cl_read_tile(c, json, path);
    d->verdict_count = 0;
    for (i = ft__json_element(json, list, 0); ft__json_int(json, i, &key)
         && ft__json_int(json, i + 1, &form) && i + 1 < json->values[list].next; i += 2) {
        ft__verdict v;
        memset(&v, 0, sizeof v);
        v.key = (uint64_t)key;
        v.form = form >= FT__FORM_PROCESSOR && form < FT__FORM_COUNT
            && (form != FT__FORM_CLBLAST || d->gemm)
            && (form != FT__FORM_TENSOR || d->tensor) ? (int)form : d->usual_form;
        v.why = "so it did when the checkpoint was written";
        ft__add_verdict(c, &v);
    }
    return true;
}

/* ---- The choices, for the user ---- */

static ft_device_check ft__cl_check_of(const ft__verdict *v)
{
    static const char *const forms[] = {"processor", "plain", "tiled", "wide", "CLBlast",
                                        "block", "tensor", "Winograd"};
    bool product = ft__device_rows[v->op]->product != NULL;
    ft_device_check check;
    memset(&check, 0, sizeof check);
    check.op = ft__rows[v->op]->name;
    check.choice = v->form >= 0 && !product ? "kernel" : forms[v->form - FT__FORM_PROCESSOR];
    check.error = v->error;
    check.device_seconds = v->device_seconds;
    check.host_seconds = v->host_seconds;
    memcpy(check.shape, v->shape, sizeof check.shape);
    return check;
}

static int ft__cl_checks(const ft__context *c, ft_device_check *checks, int most)
{
    const ft__device *d = c->device;
    int count, op;
    for (count = 0; count < d->verdict_count; ++count)
        if (count < most) checks[count] = ft__cl_check_of(&d->verdicts[count]);
    for (op = 0; op < FT__OP_COUNT; ++op) {
        if (ft__device_rows[op]->forward || !ft__rows[op]->forward) continue;
        if (count < most) {
            memset(&checks[count], 0, sizeof *checks);
            checks[count].op = ft__rows[op]->name;
            checks[count].choice = "processor";
        }
        count += 1;
    }
    return count;
}
#endif
