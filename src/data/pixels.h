#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "data/preprocessing.h"
#include "data/augmentation.h"
#include "data/image_headers.h"
#include "data/sources.h"
#include "data/image_samples.h"
#include "data/image_folders.h"

/* =============================================================================================
   [SECTION] data/pixels: Pictures in memory
   Pictures that the application has decoded. They are samples of an ft__folder, as a folder's files
   are, with the same resizing, views and digests: the same pictures give the same bits.
   ============================================================================================= */
static void ft__pixels_check(ft_model *m, int count, const uint8_t *const *pixels,
                             const ft_picture_size *sizes, const int *labels,
                             const ft_pixels_options *o)
{
    ft__context *c = &m->context;
    const char *fault = ft__preprocessing_fault(&m->preprocessing);
    const ft__field_use uses[] = {
        {"classes", o->classes > 0, labels != NULL, "labels, which are NULL"},
        {"class_names", o->class_names != NULL, o->classes > 0, "classes, their number"}};
    int i;
    if (!pixels || !sizes || count < 1 || o->classes < 0)
        ft__fail(c, FT_INVALID, "ft_pixels: pixels and sizes must not be NULL, count (%d) must be"
                 " at least 1, and classes (%d) must not be negative", count, o->classes);
    if (o->channels < 0 || o->channels > 4)
        ft__fail(c, FT_INVALID, "ft_pixels: channels is %d; it must be 1 to 4 (0: 3)", o->channels);
    if (fault)
        ft__fail(c, FT_INVALID, "ft_pixels: the model's preprocessing is not usable: %s; load or"
                 " build a network that has one, or call ft_set_preprocessing", fault);
    fault = ft__augmentation_fault(&o->augmentation);
    if (fault) ft__fail(c, FT_INVALID, "ft_pixels: augmentation: %s", fault);
    ft__check_uses(c, "ft_pixels", uses, sizeof uses / sizeof uses[0]);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        ft__geometry geometry;
        if (!pixels[i]) ft__fail(c, FT_INVALID, "ft_pixels: pixels[%d] is NULL", i);
        else if (!ft__geometry_of(&m->preprocessing, sizes[i].width, sizes[i].height, &geometry))
            ft__fail(c, FT_INVALID, "ft_pixels: picture %d is %d x %d: %s", i, sizes[i].width,
                     sizes[i].height, ft__odd_sides);
    }
}

static ft__folder *ft__pixels_folder(ft_model *m, const ft_pixels_options *o)
{
    ft__context *c = &m->context;
    ft__folder *folder = ft__folder_make(m, o->augmentation, o->cache_bytes);
    int i;
    if (!folder) return NULL;
    folder->channels = o->channels ? o->channels : 3;
    folder->path = ft__copy_text(c, "");
    if (o->class_names)
        folder->class_names = (char **)ft__allocate(c, (size_t)o->classes,
                                                    sizeof *folder->class_names);
    for (i = 0; folder->class_names && i < o->classes; ++i) {
        char number[12];
        folder->class_names[i] = ft__copy_text(c, ft__name_or_number(o->class_names[i], i, number));
        folder->class_count = i + 1;
    }
    return folder;
}

static float ft__pixels_weight(void *user, int index)
{
    return ((const ft__folder *)user)->samples[index].weight;
}

static void ft__pixels_add(ft__folder *folder, int count, const uint8_t *const *pixels,
                           const ft_picture_size *sizes, const int *labels,
                           const ft_pixels_options *o)
{
    const ft_preprocessing *p = &folder->preprocessing;
    ft__context *c = folder->context;
    int i;
    folder->samples = (ft__sample *)ft__allocate(c, (size_t)count, sizeof *folder->samples);
    for (i = 0; folder->samples && i < count; ++i) {
        ft__sample *s = &folder->samples[i];
        size_t area = (size_t)sizes[i].width * (size_t)sizes[i].height;
        s->pixels = pixels[i];
        s->width = sizes[i].width;
        s->height = sizes[i].height;
        s->label = labels ? labels[i] : -1;
        s->group = o->groups ? (uint64_t)(int64_t)o->groups[i] : (uint64_t)i;
        s->weight = o->weights ? o->weights[i] : 1;
        s->bytes = folder->channels == p->channels ? 0 : area * (size_t)p->channels;
        s->digest = ft__hash_bytes(ft__key((uint64_t)s->width, (uint64_t)s->height,
                                           (uint64_t)folder->channels, 0),
                                   s->pixels, area * (size_t)folder->channels);
        ft__geometry_of(p, s->width, s->height, &s->geometry);
        s->examined = true;
        folder->count = i + 1;
    }
}

/* Resizes the pictures that find room; the others are resized at each use. */
static void ft__pixels_keep(ft__folder *folder)
{
    int i, *all = (int *)ft__allocate(folder->context, (size_t)folder->count, sizeof *all);
    for (i = 0; all && i < folder->count; ++i) all[i] = i;
    if (all) ft__folder_decode(folder, all, folder->count);
    ft__release(folder->context, all);
    if (ft__ok(folder->context)) ft__folder_fit_scratch(folder, false);
}

ft_data *ft_pixels(ft_model *m, int count, const uint8_t *const *pixels,
                   const ft_picture_size *sizes, const int *labels, ft_pixels_options options)
{
    ft__context *c;
    ft__folder *folder;
    ft_data *data = NULL;
    ft_source source;
    if (!ft__usable(m) || !FT__HAS(m, DATA)) return NULL;
    c = &m->context;
    memset(&source, 0, sizeof source);
    ft__pixels_check(m, count, pixels, sizes, labels, &options);
    if (ft__ok(c))
        source.classes = ft__label_classes(c, "ft_pixels", count, labels, options.classes);
    folder = ft__ok(c) ? ft__pixels_folder(m, &options) : NULL;
    if (!folder) return NULL;
    if (ft__ok(c)) ft__pixels_add(folder, count, pixels, sizes, labels, &options);
    if (ft__ok(c)) ft__pixels_keep(folder);
    source.user = folder;
    source.count = count;
    source.get = ft__folder_get;
    source.label = labels ? ft__folder_label : NULL;
    source.group = options.groups ? ft__folder_group : NULL;
    source.weight = options.weights ? ft__pixels_weight : NULL;
    source.class_name = options.class_names ? ft__folder_class_name : NULL;
    source.release = ft__folder_release;
    source.digest = ft__folder_digest;
    if (ft__ok(c)) data = ft_data_source(m, source);
    if (data) data->fills = labels ? "input,labels" : "input";
    if (data) ft__folder_features(&data->features);
    else ft__folder_release(folder);
    return data;
}
