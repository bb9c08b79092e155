#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/files.h"
#include "data/resize.h"
#include "data/preprocessing.h"
#include "data/augmentation.h"
#include "data/image_files.h"

/* =============================================================================================
   [SECTION] data/image_samples: Pictures of a folder, or in memory: reading one
   What an image folder, or ft_pixels, knows of each picture, and how any thread reads one as the
   network's input.
   ============================================================================================= */
typedef struct ft__sample {
    char *path;             /* PATH/CLASS/NAME; NULL: the picture is in memory */
    const uint8_t *pixels;  /* then these: the caller's, with folder->channels */
    int label;              /* -1: none */
    ft__geometry geometry;  /* of the part that preprocessing keeps */
    int width, height;      /* of the file's picture */
    uint64_t bytes;         /* of the file; in memory: of the network's channels, if others */
    size_t memory;          /* that decoding it allocates */
    uint64_t group;
    float weight;           /* of ft_pixels_options.weights */
    uint8_t *picture;       /* resized, the network's channels; NULL: decoded at each use */
    bool examined;
    bool turned;            /* EXIF says that it is stored rotated or mirrored */
    bool known;             /* ft_desc.cache says that it can be read: not decoded so far */
    uint64_t digest;        /* of the file's bytes, or the pixels */
    const char *fault;      /* why it cannot be read; NULL: it can */
} ft__sample;

/* What one thread needs to decode, resize and cut out a picture. */
typedef struct ft__scratch {
    unsigned char *file;
    uint8_t *picture;
    void *workspace;
    bool taken;
} ft__scratch;

typedef struct ft__folder {
    ft__context *context;
    ft_preprocessing preprocessing;
    ft_augmentation augmentation;
    uint64_t seed;
    char *path;             /* "": the pictures are in memory, */
    int channels;           /* of these 1 to 4 channels */
    char **class_names;     /* in the order of the labels */
    int class_count, class_capacity;
    ft__sample *samples;
    int count, capacity, skipped;
    size_t cache_left;
    ft__scratch *scratch;
    int scratch_count;
    size_t file_bytes, picture_bytes, workspace_bytes; /* of each scratch */
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_t mutex;  /* protects `taken` */
    pthread_cond_t given_back;
#endif
} ft__folder;

/* -- Scratch: allocated on the model's thread; any thread borrows and returns it -- */

static void ft__scratch_free(ft__folder *folder)
{
    while (folder->scratch_count > 0) {
        ft__scratch *scratch = &folder->scratch[--folder->scratch_count];
        ft__release(folder->context, scratch->workspace);
        ft__release(folder->context, scratch->picture);
        ft__release(folder->context, scratch->file);
    }
    ft__release(folder->context, folder->scratch);
    folder->scratch = NULL;
}

/* One for each thread that may call get(): the loader's and the model's own; fewer if they are
   large. A thread that finds none free waits for one. */
static bool ft__scratch_make(ft__folder *folder, size_t file, size_t picture, size_t workspace,
                             size_t decoding)
{
    ft__context *c = folder->context;
    size_t all = file + picture + workspace + 1, most = (size_t)1 << 28;
    int count = c->threads + 1, i;
#ifdef FINETUNE_NO_THREADS
    count = 1;
#endif
    ft__scratch_free(folder);
    if (most > ft__memory_left(c) / 8) most = ft__memory_left(c) / 8;
    if ((size_t)count > most / all) count = most / all ? (int)(most / all) : 1;
    /* What decoders allocate with malloc counts against the memory budget. */
    most = c->desc.memory_budget ? ft__room(c) / (all + decoding) : SIZE_MAX;
    if ((size_t)count > most) count = most ? (int)most : 1;
    folder->scratch = (ft__scratch *)ft__allocate(c, (size_t)count, sizeof *folder->scratch);
    for (i = 0; i < count && ft__ok(c); ++i) {
        ft__scratch *scratch = &folder->scratch[i];
        folder->scratch_count = i + 1;
        if (file) scratch->file = (unsigned char *)ft__allocate(c, file, 1);
        if (picture) scratch->picture = (uint8_t *)ft__allocate(c, picture, 1);
        scratch->workspace = ft__allocate(c, workspace, 1);
    }
    folder->file_bytes = file;
    folder->picture_bytes = picture;
    folder->workspace_bytes = workspace;
    return ft__ok(c);
}

static ft__scratch *ft__scratch_take(ft__folder *folder)
{
    ft__scratch *found = NULL;
    int i;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&folder->mutex);
#endif
    while (!found) {
        for (i = 0; i < folder->scratch_count && !found; ++i)
            if (!folder->scratch[i].taken) found = &folder->scratch[i];
#ifndef FINETUNE_NO_THREADS
        if (!found) pthread_cond_wait(&folder->given_back, &folder->mutex);
#else
        if (!found) return NULL;
#endif
    }
    found->taken = true;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_unlock(&folder->mutex);
#endif
    return found;
}

static void ft__scratch_give_back(ft__folder *folder, ft__scratch *scratch)
{
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&folder->mutex);
    scratch->taken = false;
    pthread_cond_signal(&folder->given_back);
    pthread_mutex_unlock(&folder->mutex);
#else
    (void)folder;
    scratch->taken = false;
#endif
}

/* -- Reading one picture, on any thread -- */

static const char *ft__sample_bytes(const ft__folder *folder, const ft__sample *sample,
                                    unsigned char *to)
{
    const ft_files *files = &folder->context->desc.files;
    void *file = files->open(files->user, sample->path, false);
    const char *fault = NULL;
    int64_t size;
    if (!file) return ft__not_opened(files, sample->path);
    size = files->size(files->user, file);
    if (size < 0 || (uint64_t)size != sample->bytes || sample->bytes > folder->file_bytes)
        fault = "the file has changed";
    else if (files->read(files->user, file, 0, to, (size_t)size) != (size_t)size)
        fault = "reading it failed";
    files->close(files->user, file);
    return fault;
}

/* Resizes a picture in memory. */
static void ft__sample_resize(const ft__folder *folder, const ft__sample *sample,
                              ft__scratch *scratch, uint8_t *to)
{
    int channels = folder->preprocessing.channels;
    const uint8_t *from = sample->pixels;
    if (folder->channels != channels) {
        ft__convert_channels(from, folder->channels,
                             (size_t)sample->width * (size_t)sample->height, scratch->file,
                             channels);
        from = scratch->file;
    }
    ft__resize(from, (size_t)sample->width * (size_t)channels, sample->width, sample->height,
               channels, to, sample->geometry.width, sample->geometry.height,
               ft__filter_of(&folder->preprocessing), scratch->workspace);
}

/* Decodes and resizes into `to`; if `to` is NULL, only finds out whether it could. */
static const char *ft__sample_load(const ft__folder *folder, const ft__sample *sample, bool first,
                                   ft__scratch *scratch, uint8_t *to)
{
    const ft_preprocessing *p = &folder->preprocessing;
    ft__picture picture;
    const char *fault;
    if (sample->pixels) {
        if (to) ft__sample_resize(folder, sample, scratch, to);
        return NULL;
    }
    fault = ft__sample_bytes(folder, sample, scratch->file);
    if (!fault)
        fault = (first ? ft__decode : ft__decode_again)(scratch->file, (size_t)sample->bytes,
                                                        p->channels, &picture);
    if (fault) return fault;
    if (picture.width != sample->width || picture.height != sample->height)
        fault = "the file has changed";
    else if (to)
        ft__resize(picture.pixels, (size_t)picture.width * (size_t)p->channels, picture.width,
                   picture.height, p->channels, to, sample->geometry.width,
                   sample->geometry.height, ft__filter_of(p), scratch->workspace);
    ft__picture_free(&picture);
    return fault;
}

static bool ft__sample_input(ft__folder *folder, int index, int view_number, float *to)
{
    const ft__sample *sample = &folder->samples[index];
    const uint8_t *picture = sample->picture;
    ft__scratch *scratch = NULL;
    ft__view view;
    bool read = true;
    ft__draw_view(&folder->augmentation, &folder->preprocessing, folder->seed, index, view_number,
                  sample->geometry.width, sample->geometry.height, &view);
    if (!picture || ft__view_works(&view)) {
        scratch = ft__scratch_take(folder);
        if (!scratch) return false;
    }
    if (!picture) {
        read = ft__sample_load(folder, sample, false, scratch, scratch->picture) == NULL;
        picture = scratch->picture;
    }
    if (read)
        ft__view_to_tensor(&folder->preprocessing, picture, &sample->geometry, &view,
                           scratch ? scratch->workspace : NULL, to);
    if (scratch) ft__scratch_give_back(folder, scratch);
    return read;
}
