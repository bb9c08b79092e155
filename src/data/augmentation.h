#pragma once
#include "interface/types.h"
#include "basics/random.h"
#include "data/resize.h"
#include "data/preprocessing.h"

/* =============================================================================================
   [SECTION] data/augmentation: Augmented views
   A view is a function of (seed, index, view) only.
   ============================================================================================= */
typedef struct ft__view {
    int crop_left, crop_top, crop_width, crop_height; /* of the resized picture; width 0: no crop */
    int shift_x, shift_y;                             /* of the window, in pixels */
    bool flip;
} ft__view;

/* exp(x) for |x| < 1/2: its series to 12 terms. */
static double ft__small_exp(double x)
{
    double sum = 1.0;
    int i;
    for (i = 12; i > 0; --i) sum = 1.0 + sum * x / i;
    return sum;
}

/* torchvision's RandomResizedCrop.get_params: an area in [scale, 1] of the picture's, an aspect
   ratio uniform in 3/4 to 4/3 on a logarithmic scale. After ten tries that do not fit it takes the
   largest central crop that does. */
static void ft__draw_crop(float scale, uint64_t key, int width, int height, ft__view *view)
{
    const double log_ratio = 0.28768207245178090; /* log(4/3) */
    double area = (double)width * height;
    int try_number, w, h;
    for (try_number = 0; try_number < 10; ++try_number) {
        uint64_t at = 16 + 4 * (uint64_t)try_number;
        double target = area * (scale + (1.0 - scale) * ft__uniform(key, at));
        double aspect = ft__small_exp(log_ratio * (2.0 * ft__uniform(key, at + 1) - 1.0));
        w = (int)floor(sqrt(target * aspect) + 0.5);
        h = (int)floor(sqrt(target / aspect) + 0.5);
        if (w < 1 || h < 1 || w > width || h > height) continue;
        view->crop_width = w;
        view->crop_height = h;
        view->crop_left = (int)(ft__random(key, at + 2) % (uint64_t)(width - w + 1));
        view->crop_top = (int)(ft__random(key, at + 3) % (uint64_t)(height - h + 1));
        return;
    }
    w = width;
    h = height;
    if (4 * (int64_t)width < 3 * (int64_t)height) h = (int)floor(w / 0.75 + 0.5);
    else if (3 * (int64_t)width > 4 * (int64_t)height) w = (int)floor(h * 4.0 / 3.0 + 0.5);
    view->crop_width = w;
    view->crop_height = h;
    view->crop_left = (width - w) / 2;
    view->crop_top = (height - h) / 2;
}

static int ft__draw_shift(float share, int size, uint64_t key, uint64_t at)
{
    int most = (int)(share * (float)size + 0.5f);
    return most > 0 ? (int)(ft__random(key, at) % (uint64_t)(2 * most + 1)) - most : 0;
}

/* `width` and `height` are those of the resized picture. */
static void ft__draw_view(const ft_augmentation *a, const ft_preprocessing *p, uint64_t seed,
                          int index, int view_number, int width, int height, ft__view *view)
{
    uint64_t key = ft__key(seed, (uint64_t)index, (uint64_t)view_number, FT__USE_AUGMENT);
    memset(view, 0, sizeof *view);
    if (view_number == 0) return;
    view->flip = a->flip && ft__uniform(key, 0) < 0.5f;
    view->shift_x = ft__draw_shift(a->shift, p->width, key, 1);
    view->shift_y = ft__draw_shift(a->shift, p->height, key, 2);
    if (a->scale > 0.0f && a->scale < 1.0f) ft__draw_crop(a->scale, key, width, height, view);
}

static bool ft__augments(const ft_augmentation *a)
{
    return a->shift > 0 || a->scale > 0 || a->flip;
}

/* Returns what is wrong with the numbers, or NULL. */
static const char *ft__augmentation_fault(const ft_augmentation *a)
{
    if (!(a->shift >= 0.0f && a->shift <= 1.0f)) return "shift must be 0 to 1";
    if (!(a->scale >= 0.0f && a->scale <= 1.0f)) return "scale must be 0 to 1";
    return NULL;
}

/* Bytes that ft__view_to_tensor needs for pictures whose resized form is at most this large. */
static size_t ft__view_workspace(const ft_preprocessing *p, int width, int height)
{
    size_t resize = ft__resize_workspace(p->channels, width, height, p->width, p->height,
                                         FT__BILINEAR);
    size_t picture = (size_t)p->width * (size_t)p->height * (size_t)p->channels;
    return resize ? resize + picture : 0;
}

/* One view of a resized picture. Shifts past the picture's edge mirror the pixels inside it. */
static void ft__view_to_tensor(const ft_preprocessing *p, const uint8_t *picture,
                               const ft__geometry *g, const ft__view *view, void *workspace,
                               float *to)
{
    size_t channels = (size_t)p->channels, row_bytes = (size_t)g->width * channels;
    uint8_t *crop;
    if (view->crop_width == 0) {
        ft__window_to_tensor(p, picture, g->width, g->height, g->left + view->shift_x,
                             g->top + view->shift_y, view->flip, to);
        return;
    }
    crop = (uint8_t *)workspace + ft__resize_workspace(p->channels, view->crop_width,
                                                       view->crop_height, p->width, p->height,
                                                       FT__BILINEAR);
    ft__resize(picture + (size_t)view->crop_top * row_bytes + (size_t)view->crop_left * channels,
               row_bytes, view->crop_width, view->crop_height, p->channels, crop, p->width,
               p->height, FT__BILINEAR, workspace);
    ft__window_to_tensor(p, crop, p->width, p->height, view->shift_x, view->shift_y, view->flip,
                         to);
}
