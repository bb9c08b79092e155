#pragma once
#include "interface/types.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "kernels/rotary.h"
#include "data/resize.h"
#include "data/preprocessing.h"
#include "data/picture_changes.h"

/* =============================================================================================
   [SECTION] data/augmentation: Augmented views
   A view is a function of (seed, index, view) only.
   ============================================================================================= */
enum {
    FT__MOST_OPERATIONS = 8, /* of RandAugment */
    FT__MOST_CHANGES = FT__MOST_OPERATIONS + 7 /* upside down, affine, 4 of colours, blur */
};

typedef struct ft__view {
    int crop_left, crop_top, crop_width, crop_height; /* of the resized picture; width 0: no crop */
    int shift_x, shift_y;                             /* of the window, in pixels */
    bool flip;
    ft__change changes[FT__MOST_CHANGES]; /* of the window, in this order */
    int change_count;
    int erase_left, erase_top, erase_width, erase_height; /* of the window; width 0: nothing */
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

/* Does it change more than the place and size of the window? */
static bool ft__changes_pictures(const ft_augmentation *a)
{
    return a->flip_vertical || a->degrees > 0 || a->zoom > 0 || a->shear > 0 || a->brightness > 0
        || a->contrast > 0 || a->saturation > 0 || a->hue > 0 || a->blur > 0 || a->erase > 0
        || a->policy != FT_NO_POLICY;
}

/* ---- Changes: their numbers have a key of their own, drawn one after another ---- */
typedef struct ft__draws { uint64_t key, at; } ft__draws;

static double ft__draw(ft__draws *from, double least, double most) /* uniform */
{
    double u = (double)(ft__random(from->key, from->at++) >> 11) * (1.0 / 9007199254740992.0);
    return least + (most - least) * u;
}

static int ft__draw_below(ft__draws *from, int count)
{
    return (int)(ft__random(from->key, from->at++) % (uint64_t)count);
}

static ft__change *ft__add_change(ft__view *view, ft__change_kind kind, double size)
{
    ft__change *change = &view->changes[view->change_count++];
    change->kind = kind;
    change->size = size;
    return change;
}

/* A change of TrivialAugmentWide (Mueller and Hutter 2021) or RandAugment (Cubuk et al. 2020) at
   `bin` of 0 to 30, as torchvision's _augmentation_space has them. */
static double ft__policy_size(ft_augment_policy policy, ft__change_kind kind, int bin, int width,
                              int height)
{
    bool wide = policy == FT_TRIVIAL_AUGMENT;
    double share = bin / 30.0;
    switch (kind) {
    case FT__SHEAR_X: case FT__SHEAR_Y: return share * (wide ? 0.99 : 0.3);
    case FT__TRANSLATE_X: return share * (wide ? 32.0 : 150.0 / 331.0 * width);
    case FT__TRANSLATE_Y: return share * (wide ? 32.0 : 150.0 / 331.0 * height);
    case FT__ROTATE: return share * (wide ? 135.0 : 30.0);
    case FT__BRIGHTNESS: case FT__COLOR: case FT__CONTRAST: case FT__SHARPNESS:
        return share * (wide ? 0.99 : 0.9);
    case FT__POSTERIZE: return 8 - floor(share * (wide ? 6 : 4) + 0.5);
    case FT__SOLARIZE: return 255 - 255 * share;
    default: return 0;
    }
}

static void ft__draw_policy(const ft_augmentation *a, ft__draws *from, int width, int height,
                            ft__view *view)
{
    int count = a->policy == FT_TRIVIAL_AUGMENT ? 1 : a->operations ? a->operations : 2, i;
    for (i = 0; i < count; ++i) {
        ft__change_kind kind = (ft__change_kind)ft__draw_below(from, FT__POLICY_CHANGES);
        int bin = a->policy == FT_TRIVIAL_AUGMENT ? ft__draw_below(from, 31)
                                                  : a->magnitude ? a->magnitude : 9;
        bool negative = ft__draw_below(from, 2) == 1;
        double size = ft__policy_size(a->policy, kind, bin, width, height);
        if (kind == FT__IDENTITY) continue;
        ft__add_change(view, kind, negative && kind <= FT__SHARPNESS ? -size : size);
    }
}

/* torchvision's ColorJitter.get_params: a factor for each, in a random order. */
static void ft__draw_colours(const ft_augmentation *a, ft__draws *from, ft__view *view)
{
    static const ft__change_kind kinds[4] = {
        FT__BRIGHTNESS, FT__CONTRAST, FT__COLOR, FT__HUE};
    double most[4], size[4];
    int order[4], i;
    most[0] = (double)a->brightness;
    most[1] = (double)a->contrast;
    most[2] = (double)a->saturation;
    most[3] = (double)a->hue;
    ft__shuffle(order, 4, ft__random(from->key, from->at++));
    for (i = 0; i < 4; ++i)
        size[i] = ft__draw(from, i < 3 && most[i] > 1 ? -1 : -most[i], most[i]);
    for (i = 0; i < 4; ++i)
        if (most[order[i]] > 0) ft__add_change(view, kinds[order[i]], size[order[i]]);
}

/* torchvision's RandomErasing.get_params with its defaults: 2 to 33 % of the area, an aspect ratio
   of 0.3 to 3.3 on a logarithmic scale, at most ten tries. */
static void ft__draw_erase(double probability, ft__draws *from, int width, int height,
                           ft__view *view)
{
    int try_number, w, h;
    if (ft__draw(from, 0, 1) >= probability) return;
    for (try_number = 0; try_number < 10; ++try_number) {
        double area = (double)width * height * ft__draw(from, 0.02, 0.33);
        double aspect = ft__exp_double(ft__draw(from, -1.2039728043259361, 1.1939224684724346));
        h = (int)floor(sqrt(area * aspect) + 0.5);
        w = (int)floor(sqrt(area / aspect) + 0.5);
        if (h >= height || w >= width) continue;
        if (w < 1 || h < 1) return; /* nothing of a picture this small */
        view->erase_width = w;
        view->erase_height = h;
        view->erase_top = ft__draw_below(from, height - h + 1);
        view->erase_left = ft__draw_below(from, width - w + 1);
        return;
    }
}

/* `width` and `height` are those of the window. */
static void ft__draw_changes(const ft_augmentation *a, uint64_t key, int width, int height,
                             ft__view *view)
{
    ft__draws from;
    from.key = key;
    from.at = 0;
    if (a->flip_vertical && ft__draw(&from, 0, 1) < 0.5) ft__add_change(view, FT__MIRROR_DOWN, 0);
    if (a->degrees > 0 || a->zoom > 0 || a->shear > 0) {
        ft__affine_map *affine = &ft__add_change(view, FT__AFFINE, 0)->affine;
        affine->angle = ft__draw(&from, -(double)a->degrees, (double)a->degrees);
        affine->scale = ft__draw(&from, 1 - (double)a->zoom, 1 + (double)a->zoom);
        affine->shear_x = ft__draw(&from, -(double)a->shear, (double)a->shear);
    }
    ft__draw_colours(a, &from, view);
    if (a->blur > 0) {
        double sigma = ft__draw(&from, 0.1, (double)a->blur);
        ft__add_change(view, FT__BLUR, sigma)->radius = ft__blur_radius((double)a->blur);
    }
    if (a->policy) ft__draw_policy(a, &from, width, height, view);
    if (a->erase > 0) ft__draw_erase((double)a->erase, &from, width, height, view);
}

enum { FT__MIRRORED = -1 }; /* a view: the plain one, mirrored left to right */

/* `width` and `height` are those of the resized picture. */
static void ft__draw_view(const ft_augmentation *a, const ft_preprocessing *p, uint64_t seed,
                          int index, int view_number, int width, int height, ft__view *view)
{
    uint64_t key = ft__key(seed, (uint64_t)index, (uint64_t)view_number, FT__USE_AUGMENT);
    memset(view, 0, sizeof *view);
    view->flip = view_number == FT__MIRRORED;
    if (view_number <= 0) return;
    view->flip = a->flip && ft__uniform(key, 0) < 0.5f;
    view->shift_x = ft__draw_shift(a->shift, p->width, key, 1);
    view->shift_y = ft__draw_shift(a->shift, p->height, key, 2);
    if (a->scale > 0.0f && a->scale < 1.0f) ft__draw_crop(a->scale, key, width, height, view);
    if (ft__changes_pictures(a))
        ft__draw_changes(a, ft__key(seed, (uint64_t)index, (uint64_t)view_number, FT__USE_CHANGE),
                         p->width, p->height, view);
}

static bool ft__augments(const ft_augmentation *a)
{
    return a->shift > 0 || a->scale > 0 || a->flip || ft__changes_pictures(a);
}

enum { FT__WINDOW_NUMBERS = 3, FT__AUGMENTATION_NUMBERS = 16 };

/* For digests: FT__WINDOW_NUMBERS of the window, then those that ft__changes_pictures is about. */
static void ft__augmentation_numbers(const ft_augmentation *a, float to[FT__AUGMENTATION_NUMBERS])
{
    const float numbers[FT__AUGMENTATION_NUMBERS] = {
        a->shift, a->scale, a->flip ? 1.0f : 0.0f,
        a->flip_vertical ? 1.0f : 0.0f, a->degrees, a->zoom, a->shear, a->brightness, a->contrast,
        a->saturation, a->hue, a->blur, a->erase, (float)a->policy, (float)a->operations,
        (float)a->magnitude};
    memcpy(to, numbers, sizeof numbers);
}

static uint64_t ft__augmentation_hash(const ft_augmentation *a)
{
    float numbers[FT__AUGMENTATION_NUMBERS];
    ft__augmentation_numbers(a, numbers);
    return ft__hash_bytes(1, numbers, sizeof numbers);
}

/* Returns what is wrong with the numbers, or NULL. */
static const char *ft__augmentation_fault(const ft_augmentation *a)
{
    if (!(a->shift >= 0.0f && a->shift <= 1.0f)) return "shift must be 0 to 1";
    if (!(a->scale >= 0.0f && a->scale <= 1.0f)) return "scale must be 0 to 1";
    if (!(a->degrees >= 0.0f && a->degrees <= 180.0f)) return "degrees must be 0 to 180";
    if (!(a->zoom >= 0.0f && a->zoom < 1.0f)) return "zoom must be at least 0 and below 1";
    if (!(a->shear >= 0.0f && a->shear < 90.0f)) return "shear must be at least 0 and below 90";
    if (!(ft__not_negative(a->brightness) && ft__not_negative(a->contrast)
          && ft__not_negative(a->saturation)))
        return "brightness, contrast and saturation must be finite and not negative";
    if (!(a->hue >= 0.0f && a->hue <= 0.5f)) return "hue must be 0 to 0.5";
    if (a->blur != 0 && !(a->blur >= 0.1f && a->blur <= 20.0f))
        return "blur must be 0.1 to 20 pixels, or 0";
    if (!(a->erase >= 0.0f && a->erase <= 1.0f)) return "erase must be 0 to 1";
    if ((unsigned)a->policy > FT_RAND_AUGMENT)
        return "policy must be FT_NO_POLICY, FT_TRIVIAL_AUGMENT or FT_RAND_AUGMENT";
    if (a->policy != FT_RAND_AUGMENT && (a->operations || a->magnitude))
        return "operations and magnitude have no effect without FT_RAND_AUGMENT";
    if (a->operations < 0 || a->operations > FT__MOST_OPERATIONS)
        return "operations must be 1 to 8, or 0 for 2";
    if (a->magnitude < 0 || a->magnitude > 30) return "magnitude must be 1 to 30, or 0 for 9";
    return NULL;
}

/* Bytes that ft__view_to_tensor needs for pictures whose resized form is at most this large. */
static size_t ft__view_workspace(const ft_preprocessing *p, const ft_augmentation *a, int width,
                                 int height)
{
    size_t resize = ft__resize_workspace(p->channels, width, height, p->width, p->height,
                                         FT__BILINEAR);
    size_t picture = (size_t)p->width * (size_t)p->height * (size_t)p->channels;
    if (ft__changes_pictures(a)) picture *= 2 + sizeof(float);
    return resize ? resize + picture + sizeof(float) : 0;
}

/* The window of a view as a picture, mirrored and changed; returns which of the two it is in. */
static const uint8_t *ft__changed_window(const ft_preprocessing *p, const uint8_t *picture,
                                         const ft__geometry *g, const ft__view *view, float *rows,
                                         uint8_t *spare[2])
{
    ft__raster r;
    int i, at = 0;
    r.width = p->width;
    r.height = p->height;
    r.channels = p->channels;
    ft__cut_window(r, picture, g->width, g->height, g->left + view->shift_x, g->top + view->shift_y,
                   view->flip, spare[0]);
    for (i = 0; i < view->change_count; ++i, at = !at)
        ft__change_picture(r, spare[at], &view->changes[i], rows, spare[!at]);
    return spare[at];
}

/* erase: zeros, which are the mean of the network's pictures. */
static void ft__erase(const ft_preprocessing *p, const ft__view *view, float *to)
{
    int c, y;
    for (c = 0; c < p->channels; ++c)
        for (y = 0; y < view->erase_height; ++y)
            memset(to + ((size_t)c * (size_t)p->height + (size_t)(view->erase_top + y))
                       * (size_t)p->width + (size_t)view->erase_left, 0,
                   (size_t)view->erase_width * sizeof *to);
}

/* Does making this view need a workspace? */
static bool ft__view_works(const ft__view *view)
{
    return view->crop_width > 0 || view->change_count > 0;
}

/* One view of a resized picture. Shifts past the picture's edge mirror the pixels inside it. */
static void ft__view_to_tensor(const ft_preprocessing *p, const uint8_t *picture,
                               const ft__geometry *g, const ft__view *view, void *workspace,
                               float *to)
{
    size_t channels = (size_t)p->channels, row_bytes = (size_t)g->width * channels;
    size_t window = (size_t)p->width * (size_t)p->height * channels;
    uint8_t *spare[2];
    ft__geometry whole = *g;
    if (view->crop_width > 0) { /* behind the changes' numbers: the second picture of theirs */
        size_t changes = view->change_count > 0 ? window * (1 + sizeof(float)) : 0;
        whole.width = p->width;
        whole.height = p->height;
        whole.left = whole.top = 0;
        spare[1] = (uint8_t *)workspace + changes;
        ft__resize(picture + (size_t)view->crop_top * row_bytes
                       + (size_t)view->crop_left * channels,
                   row_bytes, view->crop_width, view->crop_height, p->channels, spare[1], p->width,
                   p->height, FT__BILINEAR,
                   (uint8_t *)workspace + ft__pad_to(changes + window, sizeof(float)));
        picture = spare[1];
    }
    if (view->change_count > 0) {
        spare[0] = (uint8_t *)workspace + window * sizeof(float);
        spare[1] = spare[0] + window;
        picture = ft__changed_window(p, picture, &whole, view, (float *)workspace, spare);
        ft__window_to_tensor(p, picture, p->width, p->height, 0, 0, false, to);
    } else
        ft__window_to_tensor(p, picture, whole.width, whole.height, whole.left + view->shift_x,
                             whole.top + view->shift_y, view->flip, to);
    ft__erase(p, view, to);
}
