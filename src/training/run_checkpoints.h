#pragma once
#include "interface/types.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "kernels/bf16.h"
#include "kernels/stored.h"
#include "nodes/nodes.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "operators/table.h"
#include "devices/device.h"
#include "graph/plan.h"
#include "formats/readers.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"
#include "formats/model_files.h"
#include "data/sources.h"
#include "training/metrics.h"
#include "training/prefix_cache.h"
#include "training/resume.h"
#include "training/fit_rates.h"
#include "training/averages.h"

/* =============================================================================================
   [SECTION] training/run_checkpoints: Checkpoints of a run
   The copy of the weights of the best epoch, and the file from which a stopped run goes on.
   ============================================================================================= */

/* ---- Copies of the weights ---- */

/* Copies everything that training changes to the kept copy, or back. */
static ft_status ft__keep_weights(ft_model *m, bool back)
{
    int i;
    ft__host_takes_weights(&m->context, back);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count;
        if (!ft__changes(m, node)) continue;
        count = ft__node_count_at(node, ft__one);
        if (!node->kept && !back)
            node->kept = (float *)ft__allocate(&m->context, count, sizeof(float));
        if (!node->kept) continue;
        memcpy(back ? node->value : node->kept, back ? node->kept : node->value,
               count * sizeof(float));
    }
    if (back) m->weights_version += 1;
    return m->context.status;
}

/* ---- Checkpoints ---- */

/* A hash of what must be the same to continue a run: its options, its data, its network, and what
   is frozen. Threads, device and file names may change. */
static uint64_t ft__fit_settings(const ft__fit *f)
{
    ft__run_option options[FT__MOST_RUN_OPTIONS];
    double numbers[FT__FIRST_RUN_OPTIONS + 2];
    uint64_t hash = f->m->context.desc.seed;
    int i;
    ft__run_options(f, options);
    for (i = 0; i < FT__FIRST_RUN_OPTIONS; ++i) numbers[i] = options[i].value;
    numbers[i++] = (double)ft_data_count(f->data);
    numbers[i] = (double)ft_data_classes(f->data);
    hash = ft__hash_bytes(hash, numbers, sizeof numbers);
    for (i = 0; i < ft_data_count(f->data); ++i) {
        const char *name = ft_data_name(f->data, i);
        if (name) hash = ft__hash_bytes(hash, name, strlen(name));
    }
    for (i = 0; i < f->m->node_count; ++i) {
        const ft__node *node = &f->m->nodes[i];
        hash = ft__hash_text(hash, node->name);
        hash = ft__hash_number(hash, node->op + 1000.0 * node->frozen);
        hash = ft__hash_number(hash, (double)node->learning_rate_factor);
        hash = ft__hash_number(hash, (double)node->weight_decay);
    }
    hash = ft__hash_newer(f, hash);
    for (i = 0; f->class_weights && i < f->o.class_weight_count; ++i)
        hash = ft__hash_number(hash, (double)f->class_weights[i]);
    for (i = 0; f->weights && i < ft_data_count(f->data); ++i)
        hash = ft__hash_number(hash, (double)f->data->source.weight(f->data->source.user, i));
    if (f->m->context.precision != FT__FLOAT32)
        hash = ft__hash_number(hash, FT__BF16); /* emulated or not: the same bits */
    if (ft__tensor_type(&f->m->context))
        hash = ft__hash_number(hash, 100.0 + ft__tensor_type(&f->m->context));
    return hash;
}

/* Sums are doubles; they are written as the integers with the same bits, so that none is lost. */
static void ft__write_score(ft__text *text, const char *key, const ft__score *score)
{
    int64_t bits, rank;
    memcpy(&bits, &score->loss, sizeof bits);
    memcpy(&rank, &score->rank, sizeof rank);
    ft__text_add(text, ",\"%s\":[%lld,%lld,%lld,%lld]", key, (long long)bits,
                 (long long)score->correct, (long long)score->total, (long long)rank);
}

static ft_status ft__checkpoint_write(ft__fit *f)
{
    ft__context *c = &f->m->context;
    const ft__place_in_run *at = &f->at;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!ft__ok(c)) return c->status;
    ft__text_add(&text, "{\"stage\":");
    ft__json_add_text(&text, f->o.stage);
    ft__text_add(&text, ",\"note\":");
    ft__json_add_text(&text, f->note);
    ft__text_add(&text, ",\"format\":%d", FT__CHECKPOINT_FORMAT);
    ft__resume_write(f, &text);
    ft__text_add(&text, ",\"settings\":\"%016llx\",\"frozen\":\"%016llx\"",
                 (unsigned long long)f->settings, (unsigned long long)f->result.before.frozen);
    ft__text_add(&text, ",\"simd\":%d,\"epoch\":%d,\"step\":%d,\"done\":%s,\"best_epoch\":%d",
                 c->simd, at->epoch, at->step, at->done ? "true" : "false", at->best_epoch);
    ft__text_add(&text, ",\"updates\":%llu,\"steps_made\":%llu",
                 (unsigned long long)f->m->optimizer->updates, (unsigned long long)f->m->step);
    ft__write_score(&text, "score", &at->score);
    ft__write_score(&text, "last", &at->last);
    ft__write_score(&text, "best", &at->best);
    ft__write_score(&text, "held", &at->held);
    ft__write_plateau(&text, &at->plateau);
    if (at->averaged > 0) ft__text_add(&text, ",\"averaged\":%lld", (long long)at->averaged);
    ft__device_add_choices(c, &text);
    ft__text_add(&text, "}");
    if (ft__ok(c)) ft__write_model(f->m, f->o.checkpoint, FT_OTHER, text.letters, f->o.best);
    ft__release(c, text.letters);
    return c->status;
}

/* Opens a checkpoint and its description; returns false without an error if there is none. */
static bool ft__checkpoint_open(ft_model *m, const char *path, ft_file **file, ft__json **json)
{
    ft_weights_options options;
    const char *text;
    int64_t format = 1; /* format 1 did not store it */
    memset(&options, 0, sizeof options);
    *file = NULL;
    *json = NULL;
    if (!ft__ok(&m->context) || !ft__file_exists(&m->context, path)) return false;
    *file = ft_file_open(m, path, options);
    if (!*file) return false;
    text = ft_file_metadata(*file, ft__checkpoint_key);
    if (!text) ft__fail(&m->context, FT_FORMAT, "%s: exists, but is not a checkpoint", path);
    else *json = ft__json_parse(&m->context, text, strlen(text));
    if (*json && ft__json_int(*json, ft__json_member(*json, 0, "format"), &format)
        && format == FT__CHECKPOINT_FORMAT) {
        if (ft__checkpoint_is_sound(*file)) return true;
        ft__fail(&m->context, FT_FORMAT, "%s: damaged checkpoint: its checksum does not match",
                 path);
    }
    if (*json)
        ft__fail(&m->context, FT_FORMAT, "%s: a checkpoint of format %lld, but this version reads"
                 " format %d: remove it, or continue with the version that wrote it", path,
                 (long long)format, FT__CHECKPOINT_FORMAT);
    ft__fail(&m->context, FT_FORMAT, "%s: damaged checkpoint", path);
    ft__json_free(&m->context, *json);
    *json = NULL;
    ft_file_close(*file);
    return false;
}

/* Reads a counter from `least` to `most`; anything else is an error. */
static int64_t ft__checkpoint_number(const ft__fit *f, const ft__json *json, const char *key,
                                     int64_t least, int64_t most)
{
    int64_t number = least - 1;
    if (ft__json_int(json, ft__json_member(json, 0, key), &number) && number >= least
        && number <= most) return number;
    ft__fail(&f->m->context, FT_FORMAT, "%s: damaged checkpoint: \"%s\" is not a number from %lld"
             " to %lld", f->o.checkpoint, key, (long long)least, (long long)most);
    return least;
}

static void ft__checkpoint_score(const ft__fit *f, const ft__json *json, const char *key,
                                 ft__score *score)
{
    int list = ft__json_member(json, 0, key);
    int64_t bits = 0, rank = 0;
    bool read = ft__json_int(json, ft__json_element(json, list, 0), &bits)
        && ft__json_int(json, ft__json_element(json, list, 1), &score->correct)
        && ft__json_int(json, ft__json_element(json, list, 2), &score->total)
        && ft__json_int(json, ft__json_element(json, list, 3), &rank);
    memcpy(&score->loss, &bits, sizeof bits);
    memcpy(&score->rank, &rank, sizeof rank);
    if (!read || score->correct < 0 || score->total < score->correct
        || !(score->loss - score->loss == 0) || !(score->rank - score->rank == 0))
        ft__fail(&f->m->context, FT_FORMAT, "%s: damaged checkpoint: \"%s\" is not a score",
                 f->o.checkpoint, key);
}

static void ft__checkpoint_tensor(ft__fit *f, ft_file *file, const char *name, float *to,
                                  size_t count)
{
    int index = ft_file_find(file, name);
    if (index >= 0) ft__read_weight(file, index, to, count);
    else ft__fail(&f->m->context, FT_FORMAT, "%s: damaged checkpoint: %s is missing",
                            f->o.checkpoint, name);
}

static bool ft__same_numbers(const ft_file *file, int index, const ft__stored *s)
{
    const ft_tensor_info *t = &file->tensors[index];
    int scales = ft__scale_of(file, index);
    if (memcmp(file->bytes + t->offset, s->at, (size_t)t->bytes) != 0) return false;
    return !s->scale || (scales >= 0 && memcmp(file->bytes + file->tensors[scales].offset,
                                               s->scale, (size_t)file->tensors[scales].bytes) == 0);
}

/* Reads a weight in the type that it has. What is not trained is usually the same in the
   checkpoint: then it stays where it is, in a mapped file for example. */
static void ft__checkpoint_weight(ft__fit *f, ft_file *file, ft__node *node)
{
    int index = ft_file_find(file, node->name);
    const ft_tensor_info *t = index < 0 ? NULL : &file->tensors[index];
    ft__stored s = ft__stored_of(node);
    ft_shape shape = ft__shape_in_file(node, t ? t->type : FT_F32);
    if (!t) ft__checkpoint_tensor(f, file, node->name, NULL, 0); /* says that it is missing */
    else if (node->value && !node->mapping && t->type == FT_F32)
        ft__read_into(f->m, file, index, node);
    else if (t->type != s.type || !ft__same_sizes(&t->shape, &shape))
        ft__fail(&f->m->context, FT_INVALID, "%s: %s is %s there, but %s in this run: load it, or"
                 " store it (ft_set_type), in the same type", f->o.checkpoint, node->name,
                 ft__type_names[t->type], ft__type_names[s.type]);
    else if (ft__transposed_as(node, t->type) || !ft__same_numbers(file, index, &s))
        ft__load_stored(f->m, file, index, node);
}

/* Reads weights, then moments and kept weights by their labels, and the states of streams. */
static ft_status ft__checkpoint_tensors(ft__fit *f, ft_file *file)
{
    ft_model *m = f->m;
    uint64_t version = m->version;
    ft_shape shape;
    char name[640];
    int i, which;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (ft__is_state(node))
            ft__checkpoint_tensor(f, file, node->name, node->value,
                                  ft__node_count_at(node, ft__extent_of(m, f->o.batch_size)));
        for (which = -1; ft__is_weight(node) && which < FT__STATES; ++which) {
            float *to = which < 0 ? NULL : *ft__state_of(node, which);
            if (which < 0 && !ft__is_shared(m, node)) /* else frozen, and read by others */
                ft__checkpoint_weight(f, file, node);
            if (!to || (which == FT__STATE_KEPT && !f->o.best)) continue;
            snprintf(name, sizeof name, "%s%s", ft__state_labels[which], node->name);
            shape = ft__state_shape(m, node, which);
            ft__checkpoint_tensor(f, file, name, to, ft__shape_count(&shape));
        }
    }
    m->version = version; /* every weight still has its type, so the plan is right */
    m->weights_version += 1;
    return m->context.status;
}

static void ft__checkpoint_state(ft__fit *f, ft_file *file, ft__json *json)
{
    ft__context *c = &f->m->context;
    ft__place_in_run *at = &f->at;
    const char *settings = ft__json_string(json, ft__json_member(json, 0, "settings"));
    const char *stage = ft__json_string(json, ft__json_member(json, 0, "stage"));
    char want[20];
    ft__print(want, sizeof want, "%016llx", (unsigned long long)f->settings);
    if (ft__resume_check(f, json) != FT_OK) return;
    if (!settings || !stage || strcmp(settings, want) != 0 || strcmp(stage, f->o.stage) != 0) {
        ft__fail(c, FT_INVALID, "%s: is the checkpoint of a run with another network, precision,"
                 " stage or other frozen layers: remove it, or use the same", f->o.checkpoint);
        return;
    }
    if (ft__checkpoint_number(f, json, "simd", 0, INT_MAX) != c->simd)
        ft__log(c, "%s was written with other SIMD instructions: the run continues, but its last"
                " bits will differ", f->o.checkpoint);
    ft__device_read_choices(c, json, f->o.checkpoint);
    at->epoch = (int)ft__checkpoint_number(f, json, "epoch", 0, f->o.epochs);
    at->step = (int)ft__checkpoint_number(f, json, "step", 0, f->steps);
    at->best_epoch = (int)ft__checkpoint_number(f, json, "best_epoch", -1, f->o.epochs);
    at->done = ft__json_true(json, ft__json_member(json, 0, "done"));
    f->m->step = (uint64_t)ft__checkpoint_number(f, json, "steps_made", 0, INT64_MAX);
    f->m->optimizer->updates = (uint64_t)ft__checkpoint_number(f, json, "updates", 0, INT64_MAX);
    ft__checkpoint_score(f, json, "score", &at->score);
    ft__checkpoint_score(f, json, "last", &at->last);
    ft__checkpoint_score(f, json, "best", &at->best);
    ft__checkpoint_score(f, json, "held", &at->held);
    ft__checkpoint_plateau(f, json, &at->plateau);
    if (ft__json_member(json, 0, "averaged") >= 0)
        at->averaged = ft__checkpoint_number(f, json, "averaged", 0, INT64_MAX);
    ft__checkpoint_tensors(f, file);
    if (ft__ok(c)) f->result.before = ft__digest(f->m);
}

/* Continues from the checkpoint, if there is one. */
static ft_status ft__checkpoint_read(ft__fit *f)
{
    ft_file *file;
    ft__json *json;
    if (!ft__checkpoint_open(f->m, f->o.checkpoint, &file, &json)) return f->m->context.status;
    ft__checkpoint_state(f, file, json);
    ft__json_free(&f->m->context, json);
    ft_file_close(file);
    return f->m->context.status;
}

/* Reads the stage and note of a checkpoint; returns false if there is none. */
static bool ft__checkpoint_peek(ft_model *m, const char *path, char *stage, size_t stage_size,
                                char *note, size_t note_size)
{
    const char *stage_text, *note_text;
    ft_file *file;
    ft__json *json;
    if (!ft__checkpoint_open(m, path, &file, &json)) return false;
    stage_text = ft__json_string(json, ft__json_member(json, 0, "stage"));
    note_text = ft__json_string(json, ft__json_member(json, 0, "note"));
    snprintf(stage, stage_size, "%s", stage_text ? stage_text : "");
    snprintf(note, note_size, "%s", note_text ? note_text : "");
    ft__json_free(&m->context, json);
    ft_file_close(file);
    return true;
}
