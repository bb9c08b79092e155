#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "graph/settings.h"
#include "data/augmentation.h"
#include "data/sources.h"
#include "training/prefix_cache.h"

/* =============================================================================================
   [SECTION] training/resume: What a checkpoint must agree with
   A run continues only from a checkpoint of the same options and data, which the checkpoint
   contains. The first difference is an error that names it. Threads, device and paths may change.
   ============================================================================================= */
typedef struct ft__run_option { const char *name; double value; } ft__run_option;

/* The first ones, up to clip_norm, are in the hash of a run's settings as they are; of those after
   them see ft__hash_newer. */
enum { FT__MOST_RUN_OPTIONS = 40, FT__FIRST_RUN_OPTIONS = 20 };

static int ft__run_options(const ft__fit *f, ft__run_option to[FT__MOST_RUN_OPTIONS])
{
    const ft_fit_options *o = &f->o;
    const ft_optimizer_options *p = &o->optimizer;
    const ft__run_option all[] = {
        {"epochs", (double)o->epochs}, {"batch_size", (double)o->batch_size},
        {"schedule", (double)o->schedule}, {"step_epochs", (double)o->step_epochs},
        {"gamma", (double)o->gamma}, {"warmup_epochs", (double)o->warmup_epochs},
        {"hold_back", (double)o->hold_back}, {"best", (double)o->best},
        {"patience", (double)o->patience}, {"views", (double)o->views},
        {"augment", (double)o->augment}, {"optimizer", (double)p->optimizer},
        {"learning_rate", (double)p->learning_rate}, {"momentum", (double)p->momentum},
        {"nesterov", (double)p->nesterov}, {"beta1", (double)p->beta1},
        {"beta2", (double)p->beta2}, {"eps", (double)p->eps},
        {"weight_decay", (double)p->weight_decay}, {"clip_norm", (double)p->clip_norm},
        {"max_length", (double)ft_max_length(f->m)}, {"alpha", (double)p->alpha},
        {"accumulate", (double)o->accumulate}, {"most_steps", (double)o->most_steps},
        {"metric", (double)f->o.metric},
        {"balanced_sampling", (double)o->balanced_sampling}, {"mixup", (double)o->mixup},
        {"cutmix", (double)o->cutmix},
        {"ema", (double)o->ema}, {"swa", (double)o->swa},
        {"average_start", (double)o->average_start},
        {"fixed_momentum", (double)o->fixed_momentum}};
    int count = (int)(sizeof all / sizeof all[0]);
    memcpy(to, all, sizeof all);
    return count;
}

static uint64_t ft__hash_number(uint64_t hash, double number)
{
    return ft__hash_bytes(hash, &number, sizeof number);
}

/* Of options that older versions had not, only those that are set are in the hash, so that their
   checkpoints are still read. */
static uint64_t ft__hash_newer(const ft__fit *f, uint64_t hash)
{
    const double numbers[] = {(double)f->o.optimizer.alpha, (double)(f->o.accumulate - 1),
                              (double)f->o.most_steps, (double)f->o.balanced_sampling,
                              (double)f->o.mixup, (double)f->o.cutmix,
                              (double)f->o.ema, (double)f->o.swa, (double)f->o.average_start,
                              (double)(f->o.schedule == FT_ONE_CYCLE && !f->o.fixed_momentum)};
    size_t i;
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; ++i)
        if (numbers[i] != 0) hash = ft__hash_number(ft__hash_number(hash, (double)i), numbers[i]);
    return hash;
}

/* ---- The data ---- */
/* Hashes what a sample is made from: its name (of texts, the text) and its content, or else what
   digest() returns of view 0. */
static uint64_t ft__sample_state(const ft__fit *f, int index)
{
    const ft_source *source = &f->data->source;
    const char *name = ft_data_name(f->data, index);
    uint64_t hash = ft__hash_bytes(1, name, strlen(name));
    if (f->data->features.content)
        return f->data->features.content(f->m, source->user, index, hash);
    return source->digest ? ft__key(hash, source->digest(source->user, index, 0), 0, 0) : hash;
}

static ft__data_state ft__data_state_of(const ft__fit *f)
{
    const ft_augmentation *a = f->o.augment ? ft__data_augmentation(f->data) : NULL;
    const ft_source *source = &f->data->source;
    ft__data_state s;
    int i;
    memset(&s, 0, sizeof s);
    if (a) s.views = ft__augmentation_hash(a);
    for (i = 0; i < source->classes; ++i)
        s.classes = ft__hash_text(s.classes, ft_data_class_name(f->data, i));
    for (i = 0; i < source->count; ++i) {
        uint64_t sample = ft__sample_state(f, i);
        s.content = ft__key(s.content, sample, 0, 0);
        s.any_order += ft__mix(sample);
        s.labels = ft__key(s.labels, (uint64_t)(int64_t)ft_data_label(f->data, i), 0, 0);
        if (source->group)
            s.groups = ft__key(s.groups, source->group(source->user, i), 0, 0);
    }
    return s;
}

/* ---- In the checkpoint ---- */

static void ft__add_hash(ft__text *text, const char *key, uint64_t hash)
{
    ft__text_add(text, ",\"%s\":\"%08lx%08lx\"", key, (unsigned long)(hash >> 32),
                 (unsigned long)(hash & 0xffffffffu));
}

static bool ft__same_hash(const ft__json *json, int object, const char *key, uint64_t hash)
{
    const char *has = ft__json_string(json, ft__json_member(json, object, key));
    char want[20];
    snprintf(want, sizeof want, "%08lx%08lx", (unsigned long)(hash >> 32),
             (unsigned long)(hash & 0xffffffffu));
    return has && !strcmp(has, want);
}

static void ft__resume_write(const ft__fit *f, ft__text *text)
{
    ft__run_option options[FT__MOST_RUN_OPTIONS];
    int count = ft__run_options(f, options), i;
    ft__add_hash(text, "seed", f->m->context.desc.seed);
    ft__text_add(text, ",\"options\":{");
    for (i = 0; i < count; ++i) {
        ft__text_add(text, "%s\"%s\":", i ? "," : "", options[i].name);
        ft__json_add_float(text, (float)options[i].value);
    }
    ft__text_add(text, "},\"data\":{\"samples\":%d", ft_data_count(f->data));
    ft__add_hash(text, "classes", f->data_state.classes);
    ft__add_hash(text, "content", f->data_state.content);
    ft__add_hash(text, "any_order", f->data_state.any_order);
    ft__add_hash(text, "labels", f->data_state.labels);
    ft__add_hash(text, "groups", f->data_state.groups);
    if (f->data_state.views) ft__add_hash(text, "views", f->data_state.views);
    ft__text_add(text, "}");
}

/* Describes the first difference of the data, for a message; NULL: none. */
static const char *ft__data_differs(const ft__fit *f, const ft__json *json, char text[100])
{
    const ft__data_state *s = &f->data_state;
    int data = ft__json_member(json, 0, "data");
    int64_t samples = -1;
    ft__json_int(json, ft__json_member(json, data, "samples"), &samples);
    if (samples != ft_data_count(f->data)) {
        ft__print(text, 100, "it had %lld samples, now %d", (long long)samples,
                 ft_data_count(f->data));
        return text;
    }
    if (!ft__same_hash(json, data, "classes", s->classes)) return "the classes differ";
    if (!ft__same_hash(json, data, "any_order", s->any_order))
        return "the content of the samples differs";
    if (!ft__same_hash(json, data, "content", s->content))
        return "the samples have another order";
    if (!ft__same_hash(json, data, "labels", s->labels)) return "the labels differ";
    if (!ft__same_hash(json, data, "groups", s->groups)) return "the groups of the samples differ";
    if (s->views && ft__json_member(json, data, "views") >= 0
        && !ft__same_hash(json, data, "views", s->views)) return "the augmentation differs";
    return NULL;
}

/* An error if the checkpoint is from a run with other options or data. */
static ft_status ft__resume_check(const ft__fit *f, const ft__json *json)
{
    ft__context *c = &f->m->context;
    ft__run_option options[FT__MOST_RUN_OPTIONS];
    int count = ft__run_options(f, options), list = ft__json_member(json, 0, "options"), i;
    char text[100];
    const char *what = ft__data_differs(f, json, text);
    if (what)
        return ft__fail(c, FT_INVALID, "%s: is the checkpoint of a run with other data (%s): remove"
                        " it, or use the same data", f->o.checkpoint, what);
    for (i = 0; i < count; ++i) {
        double was = options[i].value; /* of an option that an older version had not */
        ft__json_double(json, ft__json_member(json, list, options[i].name), &was);
        if ((float)was == (float)options[i].value) continue;
        return ft__fail(c, FT_INVALID, "%s: is the checkpoint of a run with other options (%s was"
                        " %g, now %g): remove it, or use the same options", f->o.checkpoint,
                        options[i].name, was, options[i].value);
    }
    if (!ft__same_hash(json, 0, "seed", c->desc.seed))
        return ft__fail(c, FT_INVALID, "%s: is the checkpoint of a run with another seed: remove"
                        " it, or use the same seed", f->o.checkpoint);
    return FT_OK;
}
