#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/threads.h"
#include "basics/folders.h"
#include "nodes/nodes.h"
#include "data/feature_files.h"
#include "data/resize.h"
#include "data/preprocessing.h"
#include "data/augmentation.h"
#include "data/image_headers.h"
#include "data/image_files.h"
#include "data/sources.h"
#include "data/image_samples.h"

/* =============================================================================================
   [SECTION] data/image_folders: Image folders
   PATH/CLASS/files. Every file is decoded once when the folder is opened, so that broken ones are
   reported before training starts. Resized pictures stay in memory while they fit; the others are
   decoded again at each use.
   Threads: get() may run on several at once. It allocates nothing, takes its workspace from a pool
   made beforehand, and only reads what was set up when the folder was opened. So the functions in
   ft_files are called by several threads too, each with its own file.
   ============================================================================================= */
static bool ft__folder_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    ft__folder *folder = (ft__folder *)user;
    const ft_preprocessing *p = &folder->preprocessing;
    int s;
    for (s = 0; s < slot_count; ++s) {
        const ft_slot *slot = &slots[s];
        if (!strcmp(slot->name, "labels") && slot->type == FT_I32) {
            int32_t label = folder->samples[index].label;
            memcpy(slot->values, &label, sizeof label);
        } else if (!strcmp(slot->name, "input")) {
            if (slot->type != FT_F32 || slot->shape.rank != 3 || slot->shape.size[0] != p->channels
                || slot->shape.size[1] != p->height || slot->shape.size[2] != p->width)
                return false;
            if (!ft__sample_input(folder, index, view, (float *)slot->values)) return false;
        }
    }
    return true;
}

static int ft__folder_label(void *user, int index)
{
    return ((const ft__folder *)user)->samples[index].label;
}

static uint64_t ft__folder_digest(void *user, int index, int view)
{
    const ft__folder *folder = (const ft__folder *)user;
    const ft__sample *sample = &folder->samples[index];
    const ft_augmentation *a = &folder->augmentation;
    const ft_preprocessing *p = &folder->preprocessing;
    uint64_t hash = ft__key(sample->digest, (uint64_t)sample->label, (uint64_t)view, 0);
    float numbers[FT__AUGMENTATION_NUMBERS];
    const size_t window = FT__WINDOW_NUMBERS * sizeof *numbers; /* bytes */
    hash = ft__hash_bytes(hash, p, offsetof(ft_preprocessing, bicubic)); /* then comes padding */
    if (p->bicubic || p->stretch) hash = ft__key(hash, p->bicubic, p->stretch, 0);
    if (view == 0) return hash;
    ft__augmentation_numbers(a, numbers);
    hash = ft__key(ft__hash_bytes(hash, numbers, window), folder->seed, (uint64_t)index, 0);
    if (!ft__changes_pictures(a)) return hash;
    return ft__hash_bytes(hash, numbers + FT__WINDOW_NUMBERS, sizeof numbers - window);
}

static uint64_t ft__folder_group(void *user, int index)
{
    return ((const ft__folder *)user)->samples[index].group;
}

static const char *ft__folder_name(void *user, int index) /* CLASS/NAME */
{
    const ft__folder *folder = (const ft__folder *)user;
    return folder->samples[index].path + strlen(folder->path) + 1;
}

static const char *ft__folder_class_name(void *user, int c)
{
    return ((const ft__folder *)user)->class_names[c];
}

static void ft__folder_release(void *user)
{
    ft__folder *folder = (ft__folder *)user;
    ft__context *c = folder->context;
    int i;
    ft__scratch_free(folder);
    for (i = folder->count - 1; i >= 0; --i) {
        ft__release(c, folder->samples[i].picture);
        ft__release(c, folder->samples[i].path);
    }
    ft__release(c, folder->samples);
    for (i = folder->class_count - 1; i >= 0; --i) ft__release(c, folder->class_names[i]);
    ft__release(c, folder->class_names);
    ft__release(c, folder->path);
#ifndef FINETUNE_NO_THREADS
    pthread_cond_destroy(&folder->given_back);
    pthread_mutex_destroy(&folder->mutex);
#endif
    ft__release(c, folder);
}

static bool ft__is_picture(const char *name)
{
    static const char *const endings[] = {"jpg", "jpeg", "png", "bmp", "ppm", "pgm", "gif"};
    const char *dot = strrchr(name, '.');
    size_t i, k;
    for (i = 0; dot && i < sizeof endings / sizeof *endings; ++i) {
        for (k = 0; endings[i][k]; ++k)
            if ((dot[1 + k] | 0x20) != endings[i][k]) break;
        if (!endings[i][k] && !dot[1 + k]) return true;
    }
    return false;
}

static void ft__folder_add_file(ft__folder *folder, const char *class_path, const char *name)
{
    ft__context *c = folder->context;
    ft__sample *sample;
    if (folder->count == folder->capacity) {
        int capacity = folder->capacity < INT_MAX / 4 ? 2 * folder->capacity + 64 : INT_MAX;
        sample = (ft__sample *)ft__grow(c, folder->samples, (size_t)folder->count,
                                        (size_t)capacity, sizeof *sample);
        if (!sample) return;
        folder->samples = sample;
        folder->capacity = capacity;
    }
    sample = &folder->samples[folder->count];
    sample->path = ft__join_path(c, class_path, name);
    sample->label = folder->class_count - 1;
    if (sample->path) folder->count += 1;
}

/* Adds the files of the class that was added last. */
static void ft__folder_scan_class(ft__folder *folder, const char *path)
{
    ft__context *c = folder->context;
    ft__left_out inner = {0, NULL}, other = {0, NULL};
    ft__listing listing;
    int before = folder->count, i;
    if (ft__listing_read(c, &listing, path, ft__is_picture)) {
        for (i = 0; i < listing.count; ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            if (entry->is_folder) ft__count_left_out(&inner, entry->name);
            else if (ft__is_picture(entry->name)) ft__folder_add_file(folder, path, entry->name);
            else ft__count_left_out(&other, entry->name);
        }
        if (folder->count == before)
            ft__fail(c, FT_IO, "%s: this class has no pictures (JPEG, PNG, BMP, PPM, PGM or"
                     " GIF)%s%s%s", path, inner.count ? "; it contains the folder " : "",
                     inner.count ? inner.first : "",
                     inner.count ? ": are the classes in there?" : "");
        else {
            ft__log_left_out(c, path, &other, "file of another kind", "files of other kinds");
            ft__log_left_out(c, path, &inner, "folder inside this class, with its pictures",
                             "folders inside this class, with their pictures");
        }
    }
    ft__listing_free(&listing);
}

static void ft__folder_add_class(ft__folder *folder, const char *name)
{
    ft__context *c = folder->context;
    if (folder->class_count == folder->class_capacity) {
        int capacity = 2 * folder->class_capacity + 16;
        char **grown = (char **)ft__grow(c, folder->class_names, (size_t)folder->class_count,
                                         (size_t)capacity, sizeof *grown);
        if (!grown) return;
        folder->class_names = grown;
        folder->class_capacity = capacity;
    }
    folder->class_names[folder->class_count] = ft__copy_name(c, name);
    if (!ft__ok(c)) return;
    if (strcmp(folder->class_names[folder->class_count], name) != 0)
        ft__log(c, "%s/%s: the name of this folder is not UTF-8; its class is named as printed"
                " here", folder->path, name);
    folder->class_count += 1;
}

static void ft__folder_scan(ft__folder *folder)
{
    ft__context *c = folder->context;
    ft__left_out loose = {0, NULL}, other = {0, NULL};
    ft__listing listing;
    int i;
    if (ft__listing_read(c, &listing, folder->path, ft__is_picture)) {
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            if (entry->is_folder) {
                char *path = ft__join_path(c, folder->path, entry->name);
                ft__folder_add_class(folder, entry->name);
                if (ft__ok(c)) ft__folder_scan_class(folder, path);
                ft__release(c, path);
            } else
                ft__count_left_out(ft__is_picture(entry->name) ? &loose : &other, entry->name);
        }
        if (folder->class_count == 0 && loose.count)
            ft__fail(c, FT_IO, "%s: its %d pictures are in no class folder; each class needs its"
                     " own folder, such as %s/CLASS/%s", folder->path, loose.count, folder->path,
                     loose.first);
        else if (folder->class_count == 0)
            ft__fail(c, FT_IO, "%s: has no folders in it; each class needs one, such as"
                     " %s/CLASS/any.jpg", folder->path, folder->path);
        else {
            ft__log_left_out(c, folder->path, &loose, "picture outside the class folders",
                             "pictures outside the class folders");
            ft__log_left_out(c, folder->path, &other, "file outside the class folders",
                             "files outside the class folders");
        }
    }
    ft__listing_free(&listing);
}

/* -- Examining: which pictures can be read, and keeping them -- */
typedef struct ft__examination {
    ft__folder *folder;
    const int *wanted;      /* samples */
    int count, parts;       /* part i takes wanted[i], wanted[i + parts], ... */
} ft__examination;

static void ft__examine_header(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        ft__picture_facts facts;
        s->examined = true;
        s->fault = ft__picture_info(&e->folder->context->desc.files, s->path, &facts);
        s->width = facts.width;
        s->height = facts.height;
        s->bytes = facts.bytes;
        s->memory = facts.memory;
        s->turned = facts.turned;
        if (!s->fault && s->memory > ft__room(e->folder->context))
            s->fault = "decoding its pixels needs more memory than ft_desc.memory_budget leaves";
        if (!s->fault && !ft__geometry_of(&e->folder->preprocessing, s->width, s->height,
                                          &s->geometry)) s->fault = ft__odd_sides;
    }
}

static void ft__examine_pixels(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        if (!s->fault)
            s->fault = ft__sample_load(e->folder, s, true, &e->folder->scratch[part],
                                       s->picture);
        if (!s->fault && !s->digest)
            s->digest = ft__hash_bytes(s->bytes, e->folder->scratch[part].file,
                                       (size_t)s->bytes);
    }
}

static size_t ft__sample_picture_bytes(const ft__folder *folder, const ft__sample *sample)
{
    return (size_t)sample->geometry.width * (size_t)sample->geometry.height
           * (size_t)folder->preprocessing.channels;
}

/* Makes scratch large enough for every sample: for those kept or, if `opening`, all examined. */
static bool ft__folder_fit_scratch(ft__folder *folder, bool opening)
{
    const ft_preprocessing *p = &folder->preprocessing;
    size_t file = 0, picture = 0, workspace = 1, decoding = 0;
    int i;
    for (i = 0; i < folder->count; ++i) {
        const ft__sample *s = &folder->samples[i];
        size_t resize, view;
        if (!s->examined || s->fault) continue;
        view = ft__view_workspace(p, &folder->augmentation, s->geometry.width,
                                  s->geometry.height);
        if (view > workspace) workspace = view;
        if (s->picture && !opening) continue;
        resize = ft__resize_workspace(p->channels, s->width, s->height, s->geometry.width,
                                      s->geometry.height, ft__filter_of(p));
        if (resize > workspace) workspace = resize;
        if (s->bytes > file) file = (size_t)s->bytes;
        if (s->memory > decoding) decoding = s->memory;
        if (!s->picture && ft__sample_picture_bytes(folder, s) > picture)
            picture = ft__sample_picture_bytes(folder, s);
    }
    return ft__scratch_make(folder, file, picture, workspace, decoding);
}

/* Decodes the wanted samples; those that fit stay in memory. */
static void ft__folder_decode(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    int i;
    e.folder = folder;
    e.wanted = wanted;
    e.count = count;
    for (i = 0; i < count; ++i) {
        ft__sample *s = &folder->samples[wanted[i]];
        size_t bytes = s->fault ? 0 : ft__sample_picture_bytes(folder, s);
        if (s->fault || bytes > folder->cache_left) continue;
        s->picture = (uint8_t *)ft__allocate(c, bytes, 1);
        if (!s->picture) return;
        folder->cache_left -= bytes;
    }
    if (!ft__folder_fit_scratch(folder, true)) return;
    e.parts = folder->scratch_count;
    ft__parallel(c, e.parts, ft__examine_pixels, &e);
    for (i = 0; i < count; ++i) {
        ft__sample *s = &folder->samples[wanted[i]];
        if (!s->fault || !s->picture) continue;
        folder->cache_left += ft__sample_picture_bytes(folder, s);
        ft__release(c, s->picture);
        s->picture = NULL;
    }
}

static void ft__examine_bytes(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    unsigned char *file = e->folder->scratch[part].file;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        if (!s->fault) s->fault = ft__sample_bytes(e->folder, s, file);
        if (!s->fault) s->digest = ft__hash_bytes(s->bytes, file, (size_t)s->bytes);
    }
}

/* The folder's file of readable pictures: the key is a picture's digest, the row its sides. */
static bool ft__folder_known_file(const ft__folder *folder, ft__row_file *file)
{
    uint64_t kind = ft__hash_bytes((uint64_t)folder->preprocessing.channels, "pictures 2", 10);
    return ft__rows_make(file, folder->context, "pictures",
                         ft__hash_bytes(0, folder->path, strlen(folder->path)), kind, 2);
}

/* Computes digests of the wanted samples and marks those that are known to be readable. */
static void ft__folder_recognise(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    ft__key_table table;
    ft__row_file file;
    uint64_t *keys = (uint64_t *)ft__allocate(c, (size_t)count, sizeof *keys), key, at;
    float sides[2];
    int i;
    memset(&file, 0, sizeof file);
    memset(&table, 0, sizeof table);
    if (ft__ok(c) && ft__folder_fit_scratch(folder, true)) {
        e.folder = folder;
        e.wanted = wanted;
        e.count = count;
        e.parts = folder->scratch_count;
        ft__parallel(c, e.parts, ft__examine_bytes, &e);
        for (i = 0; i < count; ++i) keys[i] = folder->samples[wanted[i]].digest;
        if (ft__key_table_make(c, &table, keys, count) && ft__folder_known_file(folder, &file)
            && ft__rows_open(&file))
            for (at = 0; at < file.count && ft__rows_key(&file, at, &key); ++at) {
                if ((i = ft__key_find(&table, key)) < 0) continue;
                if (!ft__rows_read(&file, at, key, sides)) continue;
                for (; i >= 0; i = table.next[i]) {
                    ft__sample *s = &folder->samples[wanted[i]];
                    s->known = sides[0] == (float)s->width && sides[1] == (float)s->height;
                }
            }
    }
    ft__rows_free(&file);
    ft__key_table_free(c, &table);
    ft__release(c, keys);
}

/* Saves which pictures can be read, if the file does not know all of them yet. */
static void ft__folder_remember(ft__folder *folder)
{
    ft__row_file file;
    bool written = true;
    int i, unknown = 0;
    for (i = 0; i < folder->count; ++i) unknown += !folder->samples[i].known;
    if (!folder->context->desc.cache || !unknown) return;
    if (ft__folder_known_file(folder, &file) && ft__rows_create(&file)) {
        for (i = 0; written && i < folder->count; ++i) {
            float sides[2];
            sides[0] = (float)folder->samples[i].width;
            sides[1] = (float)folder->samples[i].height;
            written = ft__rows_add(&file, folder->samples[i].digest, sides);
        }
        ft__rows_finish(&file, written);
    }
    ft__rows_free(&file);
}

/* Decodes the pictures that were only recognised so far, just before they are used. */
static void ft__folder_prepare(void *user)
{
    ft__folder *folder = (ft__folder *)user;
    int *wanted, i, count = 0;
    if (!ft__ok(folder->context)) return;
    wanted = (int *)ft__allocate(folder->context, (size_t)folder->count + 1, sizeof *wanted);
    for (i = 0; wanted && i < folder->count; ++i) {
        ft__sample *s = &folder->samples[i];
        if (s->known) wanted[count++] = i;
        s->known = false;
    }
    if (count) {
        ft__folder_decode(folder, wanted, count);
        ft__folder_fit_scratch(folder, false);
    }
    ft__release(folder->context, wanted);
}

/* Bytes of the pictures that are kept. (An arena would not gain them: it releases only its latest
   block.) */
static size_t ft__folder_kept(void *user)
{
    const ft__folder *folder = (const ft__folder *)user;
    size_t bytes = 0;
    int i;
    if (folder->context->desc.arena) return 0;
    for (i = 0; i < folder->count; ++i)
        if (folder->samples[i].picture)
            bytes += ft__sample_picture_bytes(folder, &folder->samples[i]) + FT__ALIGNMENT;
    return bytes;
}

/* From now on every picture is decoded at each use. */
static void ft__folder_release_kept(void *user)
{
    ft__folder *folder = (ft__folder *)user;
    int i;
    for (i = 0; i < folder->count; ++i) {
        ft__release(folder->context, folder->samples[i].picture);
        folder->samples[i].picture = NULL;
    }
    folder->cache_left = 0;
    ft__folder_fit_scratch(folder, false);
}

static const ft_augmentation *ft__folder_augmentation(void *user)
{
    return &((const ft__folder *)user)->augmentation;
}

static void ft__folder_augment(void *user, const ft_augmentation *augmentation)
{
    ft__folder *folder = (ft__folder *)user;
    bool grows = ft__changes_pictures(augmentation) && !ft__changes_pictures(&folder->augmentation);
    folder->augmentation = *augmentation;
    if (grows) ft__folder_fit_scratch(folder, false);
}

static bool ft__folder_has_views(void *user)
{
    return ft__augments(ft__folder_augmentation(user));
}

static int ft__folder_skipped(void *user) { return ((const ft__folder *)user)->skipped; }

static uint64_t ft__folder_content(ft_model *m, void *user, int index, uint64_t hash)
{
    (void)m;
    return ft__key(hash, ((const ft__folder *)user)->samples[index].digest, 0, 0);
}

static const char *ft__folder_origin(void *user) { return ((const ft__folder *)user)->path; }

/* Of pictures in memory too. */
static void ft__folder_features(ft__features *features)
{
    features->samples = "images";
    features->content = ft__folder_content;
    features->origin = ft__folder_origin;
    features->has_views = ft__folder_has_views;
    features->augmentation = ft__folder_augmentation;
    features->augment = ft__folder_augment;
    features->skipped = ft__folder_skipped;
    features->prepare = ft__folder_prepare;
    features->kept = ft__folder_kept;
    features->release_kept = ft__folder_release_kept;
}

static void ft__folder_examine(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    int *unknown, i, unknown_count = 0;
    e.folder = folder;
    e.wanted = wanted;
    e.count = count;
    e.parts = c->threads < 1 ? 1 : c->threads;
    ft__scratch_free(folder);
    ft__parallel(c, e.parts, ft__examine_header, &e);
    unknown = (int *)ft__allocate(c, (size_t)count, sizeof *unknown);
    if (c->desc.cache) ft__folder_recognise(folder, wanted, count);
    for (i = 0; ft__ok(c) && i < count; ++i)
        if (!folder->samples[wanted[i]].known) unknown[unknown_count++] = wanted[i];
    if (unknown_count) ft__folder_decode(folder, unknown, unknown_count);
    ft__release(c, unknown);
}

/* Sets starts[c] to the first sample of class c (samples are in the order of the classes), and
   starts[classes] to their number. */
static void ft__folder_class_starts(const ft__folder *folder, int *starts)
{
    int i, c = 0;
    for (i = 0; i < folder->count; ++i)
        if (i == 0 || folder->samples[i].label != folder->samples[i - 1].label) starts[c++] = i;
    starts[c] = folder->count;
}

static int ft__folder_readable(const ft__folder *folder, int first, int end)
{
    int i, readable = 0;
    for (i = first; i < end; ++i)
        readable += folder->samples[i].examined && !folder->samples[i].fault;
    return readable;
}

/* Examines the first `limit` readable samples of each class, in a drawn order. A broken one is
   replaced by the next in that order, so this repeats until no more are wanted. `work` holds
   2 * count + 2 * classes + 1 numbers. */
static void ft__folder_examine_drawn(ft__folder *folder, int classes, int limit, int *work)
{
    int *drawn = work, *wanted = drawn + folder->count, *starts = wanted + folder->count;
    int *next = starts + classes + 1, c, i, wanted_count;
    ft__folder_class_starts(folder, starts);
    for (c = 0; c < classes; ++c) {
        next[c] = starts[c];
        ft__shuffle(drawn + starts[c], starts[c + 1] - starts[c],
                    ft__key(folder->seed, (uint64_t)c, 0, FT__USE_PER_CLASS));
        for (i = starts[c]; i < starts[c + 1]; ++i)
            drawn[i] = limit == INT_MAX ? i : drawn[i] + starts[c];
    }
    do {
        wanted_count = 0;
        for (c = 0; c < classes; ++c)
            for (i = ft__folder_readable(folder, starts[c], starts[c + 1]);
                 i < limit && next[c] < starts[c + 1]; ++i)
                wanted[wanted_count++] = drawn[next[c]++];
        if (wanted_count) ft__folder_examine(folder, wanted, wanted_count);
    } while (wanted_count && ft__ok(folder->context));
    for (c = 0; c < classes && ft__ok(folder->context); ++c) {
        const ft__sample *s = &folder->samples[starts[c]];
        if (ft__folder_readable(folder, starts[c], starts[c + 1]) == 0)
            ft__fail(folder->context, FT_IO, "%s: this class has %d pictures, and none can be"
                     " read; %s: %s", folder->class_names[s->label],
                     starts[c + 1] - starts[c], s->path, s->fault);
    }
}

/* Keeps the samples that can be read, in the order of the names; counts and logs the others. */
static void ft__folder_drop(ft__folder *folder)
{
    int i, kept = 0;
    for (i = 0; i < folder->count; ++i) {
        ft__sample s = folder->samples[i];
        memset(&folder->samples[i], 0, sizeof s);
        if (s.examined && !s.fault) {
            folder->samples[kept++] = s;
            continue;
        }
        if (s.examined) {
            ft__log(folder->context, "%s: skipped: %s", s.path, s.fault);
            folder->skipped += 1;
        }
        ft__release(folder->context, s.path);
    }
    folder->count = kept;
}

/* Frames of one track are nearly copies of each other. Their names are two numbers, of the track
   and of the frame. Returns the number of digits of the track's, or 0. */
static int ft__track_digits(const char *name, int *frame_digits)
{
    size_t track = strspn(name, "0123456789"), frame;
    if (track == 0 || track > 20 || name[track] != '_') return 0;
    frame = strspn(name + track + 1, "0123456789");
    *frame_digits = (int)frame;
    return frame > 0 && frame < 20 && name[track + 1 + frame] == '.' ? (int)track : 0;
}

static uint64_t ft__name_group(const char *name, int label, int index, bool any)
{
    int frame = 0, track = ft__track_digits(name, &frame);
    if (!(any ? track > 0 : track == 5 && frame == 5)) return ft__key(1, (uint64_t)index, 0, 0);
    return ft__hash_bytes(ft__key(0, (uint64_t)label, 0, 0), name, (size_t)track);
}

/* Gives each sample its group and returns the number of groups. A track's samples are adjacent. */
static int ft__folder_group_names(ft__folder *folder, bool any)
{
    int i, groups = 0;
    for (i = 0; i < folder->count; ++i) {
        ft__sample *s = &folder->samples[i];
        s->group = ft__name_group(strrchr(s->path, '/') + 1, s->label, i, any);
        if (i == 0 || s->group != folder->samples[i - 1].group) groups += 1;
    }
    return groups;
}

/* Decides whether files are frames of tracks, and logs it. Sets of tracks usually have names
   NNNNN_MMMMM, five digits each, and two tracks or more per class. Other numbers may also be a
   year, a class or a date, so those are grouped only if the caller asks for it. */
static bool ft__folder_find_groups(ft__folder *folder, bool wanted, bool is_training)
{
    ft__context *c = folder->context;
    int groups = ft__folder_group_names(folder, wanted), i, track, frame = 0;
    const char *name;
    if (groups < folder->count && (wanted || groups >= 2 * folder->class_count)) {
        ft__log(c, "%s: by their names (%s) the %d pictures are frames of %d tracks; no track is"
                " split (if they are single pictures: no_groups, --groups none)", folder->path,
                wanted ? "TRACK_FRAME" : "NNNNN_MMMMM", folder->count, groups);
        return true;
    }
    if (wanted || !is_training
        || (groups == folder->count
            && ft__folder_group_names(folder, true) == folder->count)) return false;
    for (i = 0; i < folder->count; ++i) {
        name = strrchr(folder->samples[i].path, '/') + 1;
        track = ft__track_digits(name, &frame);
        if (track == 0 || track > 7) continue; /* eight digits are a date */
        ft__log(c, "%s: names like %s may mean a track and a frame: they are used as single"
                " pictures (if they are frames: group_by_name, --groups name)", folder->path, name);
        break;
    }
    return false;
}

/* Changes labels to those of other data or, if `of` is NULL, of the model. */
static void ft__folder_match_classes(ft__folder *folder, ft_model *m, const ft_data *of)
{
    ft__context *c = folder->context;
    int folder_count = folder->class_count, count = ft__known_classes(m, of), *place, i;
    char **names, number[12];
    place = ft__match_classes(m, of, folder->path, (const char *const *)folder->class_names,
                              folder_count);
    names = (char **)ft__allocate(c, (size_t)count + 1, sizeof *names);
    for (i = 0; i < count && ft__ok(c); ++i)
        names[i] = ft__copy_text(c, ft__known_class(m, of, i, number));
    for (i = 0; i < folder->count && place; ++i)
        folder->samples[i].label = place[folder->samples[i].label];
    ft__release(c, place);
    for (i = 0; i < folder_count; ++i) ft__release(c, folder->class_names[i]);
    ft__release(c, folder->class_names);
    folder->class_names = names;
    folder->class_count = names ? count : 0;
}

static void ft__folder_fill(ft__folder *folder, ft_model *m,
                            const ft_image_folder_options *options, ft_source *source)
{
    ft__context *c = folder->context;
    bool match = options->match_classes || options->classes_of;
    int *work, cached = 0, known = 0, turned = 0, classes, i;
    ft__folder_scan(folder);
    classes = folder->class_count;
    if (ft__ok(c) && classes == 1 && !match)
        ft__fail(c, FT_IO, "%s: has only one class, %s; at least 2 are needed",
                 folder->path, folder->class_names[0]);
    if (ft__ok(c) && match) ft__folder_match_classes(folder, m, options->classes_of);
    work = (int *)ft__allocate(c, 2 * (size_t)folder->count + 2 * (size_t)classes + 1,
                               sizeof *work);
    if (work)
        ft__folder_examine_drawn(folder, classes, options->per_class ? options->per_class : INT_MAX,
                                 work);
    ft__release(c, work);
    if (!ft__ok(c)) return;
    ft__folder_drop(folder);
    ft__folder_remember(folder);
    if (!ft__folder_fit_scratch(folder, false)) return;
    for (i = 0; i < folder->count; ++i) cached += folder->samples[i].picture != NULL;
    for (i = 0; i < folder->count; ++i) known += folder->samples[i].known;
    for (i = 0; i < folder->count; ++i) turned += folder->samples[i].turned;
    ft__log(c, "%s: %d pictures of %d classes; %d could not be read, %d are kept in memory%s",
            folder->path, folder->count, classes, folder->skipped, cached,
            known ? ", others were checked in an earlier run" : "");
    if (turned)
        ft__log(c, "%s: %d of them are rotated or mirrored, as their EXIF orientation says",
                folder->path, turned);
    source->count = folder->count;
    source->classes = folder->class_count;
    if (!options->no_groups && ft__folder_find_groups(folder, options->group_by_name, !match))
        source->group = ft__folder_group;
}

/* Bytes for kept pictures: as asked, or a share of the memory that the model may use. */
static size_t ft__folder_cache(const ft__context *c, size_t asked)
{
    size_t cache = (size_t)512 << 20, left = ft__memory_left(c);
    if (asked) return asked;
    return cache < left / 4 ? cache : left / 4;
}

static bool ft__folder_check(ft_model *m, const char *path,
                             const ft_image_folder_options *options)
{
    ft__context *c = &m->context;
    const char *fault;
    if (!path || options->per_class < 0) {
        ft__fail(c, FT_INVALID, "image folder: the path must not be NULL, and per_class (%d) must"
                 " not be negative", options->per_class);
        return false;
    }
    if (ft__decode_missing()) ft__fail(c, FT_UNSUPPORTED, "%s: %s", path, ft__decode_missing());
    if (!c->desc.files.list)
        ft__fail(c, FT_UNSUPPORTED, "%s: this system cannot list folders: set ft_desc.files.list",
                 path);
    fault = ft__preprocessing_fault(&m->preprocessing);
    if (fault)
        ft__fail(c, FT_INVALID, "%s: the model's preprocessing is not usable: %s; load or build a"
                 " network that has one, add it to the network's JSON, or call"
                 " ft_set_preprocessing", path, fault);
    fault = ft__augmentation_fault(&options->augmentation);
    if (fault) ft__fail(c, FT_INVALID, "%s: augmentation: %s", path, fault);
    if (options->no_groups && options->group_by_name)
        ft__fail(c, FT_INVALID, "%s: no_groups and group_by_name must not both be set",
                 path);
    if (options->per_class < 0)
        ft__fail(c, FT_INVALID, "%s: per_class is %d; it must not be negative", path,
                 options->per_class);
    if (options->match_classes && options->classes_of)
        ft__fail(c, FT_INVALID, "%s: match_classes and classes_of must not both be set: the classes"
                 " are those of the model or of other data", path);
    return ft__ok(c);
}

/* An empty set of pictures for the model's preprocessing; NULL with an error. */
static ft__folder *ft__folder_make(ft_model *m, ft_augmentation augmentation, size_t cache_bytes)
{
    ft__context *c = &m->context;
    ft__folder *folder = (ft__folder *)ft__allocate(c, 1, sizeof *folder);
    if (!folder) return NULL;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_init(&folder->mutex, NULL);
    pthread_cond_init(&folder->given_back, NULL);
#endif
    folder->context = c;
    folder->preprocessing = m->preprocessing;
    folder->augmentation = augmentation;
    folder->seed = c->desc.seed;
    folder->cache_left = ft__folder_cache(c, cache_bytes);
    return folder;
}

ft_data *ft_image_folder(ft_model *m, const char *path, ft_image_folder_options options)
{
    ft__context *c;
    ft__folder *folder;
    ft_source source;
    ft_data *data = NULL;
    size_t length;
    if (!ft__usable(m) || !FT__HAS(m, IMAGES) || !FT__HAS(m, DATA)
        || !ft__given(&m->context, path, "ft_image_folder: the path")
        || !ft__folder_check(m, path, &options)) return NULL;
    c = &m->context;
    folder = ft__folder_make(m, options.augmentation, options.cache_bytes);
    if (!folder) return NULL;
    folder->path = ft__copy_text(c, path);
    for (length = strlen(path); folder->path && length > 1 && path[length - 1] == '/'; --length)
        folder->path[length - 1] = 0;
    memset(&source, 0, sizeof source);
    source.user = folder;
    source.get = ft__folder_get;
    source.label = ft__folder_label;
    source.name = ft__folder_name;
    source.class_name = ft__folder_class_name;
    source.release = ft__folder_release;
    source.digest = ft__folder_digest;
    if (ft__ok(c)) ft__folder_fill(folder, m, &options, &source);
    if (ft__ok(c)) data = ft_data_source(m, source);
    if (data) data->fills = "input,labels";
    if (data) ft__folder_features(&data->features);
    else ft__folder_release(folder);
    return data;
}
