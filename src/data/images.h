#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/random.h"

/* =============================================================================================
   [SECTION] data/images: Images
   A picture is rows of 8-bit samples, channels interleaved. It is converted to the network's
   channels, resized exactly as in Pillow, and cropped as in torchvision; only then do its samples
   become floats. The resized 8-bit picture is kept in memory between epochs. Augmented views are
   cut from it too, so that a view's numbers do not depend on whether the picture was kept or
   decoded again.
   The functions here may run on any thread: they allocate nothing and get their workspaces from
   the caller.
   ============================================================================================= */
#define FT__MOST_PIXELS ((uint64_t)1 << 27)         /* of a picture; more costs too much memory */
#define FT__MOST_RESIZED_PIXELS ((uint64_t)1 << 26)
#define FT__MOST_FILE_BYTES ((uint64_t)1 << 28)
#define FT__MOST_SIDE_RATIO 256                     /* longer side / shorter side */

/* ---- Resizing: Pillow's Image.resize (src/libImaging/Resample.c), bit for bit ----
   Each output sample is a weighted mean of input samples. To shrink, the filter is stretched by the
   scale, which is the antialiasing. Weights are rounded to 22 fractional bits. Rows are resized
   first, their result is rounded to 8 bits, then columns. Columns are first, since Pillow 13, if
   the height loses more than twice as many samples as the width. */
typedef enum ft__filter { FT__BILINEAR, FT__BICUBIC } ft__filter;

enum { FT__WEIGHT_BITS = 32 - 8 - 2 };

static double ft__filter_support(ft__filter filter) { return filter == FT__BICUBIC ? 2.0 : 1.0; }

static double ft__filter_value(ft__filter filter, double x)
{
    const double a = -0.5; /* Keys 1981 */
    if (x < 0.0) x = -x;
    if (filter == FT__BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* The maximum number of input samples that one output sample reads. */
static int ft__filter_taps(ft__filter filter, int from, int to)
{
    double scale = (double)from / to;
    return (int)ceil(ft__filter_support(filter) * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
}

/* The weights along one side: output i has count[i] of them from weight[i * taps] on, for the input
   samples from first[i] on. */
static void ft__filter_weights(ft__filter filter, int from, int to, int32_t *first,
                               int32_t *count, int32_t *weight)
{
    double scale = (double)from / to, stretch = scale < 1.0 ? 1.0 : scale;
    double support = ft__filter_support(filter) * stretch, shrink = 1.0 / stretch;
    int taps = ft__filter_taps(filter, from, to), i, k;
    for (i = 0; i < to; ++i) {
        double centre = (i + 0.5) * scale, sum = 0.0;
        int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > from) high = from;
        for (k = low; k < high; ++k)
            sum += ft__filter_value(filter, (k - centre + 0.5) * shrink);
        for (k = low; k < high; ++k) {
            double w = ft__filter_value(filter, (k - centre + 0.5) * shrink);
            if (sum != 0.0) w /= sum;
            w *= 1 << FT__WEIGHT_BITS;
            weight[i * taps + k - low] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        first[i] = low;
        count[i] = high - low;
    }
}

/* Bytes that ft__resize needs; never less for a larger input. 0: does not fit in memory. */
static size_t ft__resize_workspace(int channels, int from_width, int from_height, int width,
                                   int height, ft__filter filter)
{
    size_t across, down, rows, columns;
    if (!ft__multiply((size_t)width, (size_t)ft__filter_taps(filter, from_width, width) + 2,
                      &across)) return 0;
    if (!ft__multiply((size_t)height, (size_t)ft__filter_taps(filter, from_height, height) + 2,
                      &down)) return 0;
    if (!ft__multiply((size_t)width * (size_t)channels, (size_t)from_height, &rows)) return 0;
    if (!ft__multiply((size_t)from_width * (size_t)channels, (size_t)height, &columns)) return 0;
    if (columns > rows) rows = columns;
    if (across > SIZE_MAX / 32 || down > SIZE_MAX / 32 || rows > SIZE_MAX / 4) return 0;
    return (across > down ? across : down) * sizeof(int32_t) + rows;
}

static uint8_t ft__weighted(int32_t sum)
{
    sum >>= FT__WEIGHT_BITS; /* arithmetic on every compiler that the library knows */
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void ft__resize_row(const uint8_t *from, int channels, uint8_t *to, int width, int taps,
                           const int32_t *first, const int32_t *count, const int32_t *weight)
{
    const int32_t half = 1 << (FT__WEIGHT_BITS - 1);
    int x, k, c;
    for (x = 0; x < width; ++x) {
        const int32_t *w = weight + (size_t)x * (size_t)taps;
        const uint8_t *at = from + (size_t)first[x] * (size_t)channels;
        int32_t sum[4] = {half, half, half, half};
        if (channels == 3)
            for (k = 0; k < count[x]; ++k, at += 3) {
                sum[0] += at[0] * w[k];
                sum[1] += at[1] * w[k];
                sum[2] += at[2] * w[k];
            }
        else
            for (k = 0; k < count[x]; ++k, at += channels)
                for (c = 0; c < channels; ++c) sum[c] += at[c] * w[k];
        for (c = 0; c < channels; ++c) *to++ = ft__weighted(sum[c]);
    }
}

/* Resizes the width of `rows` rows; `weights` has room for width * (taps + 2) numbers. */
static void ft__resize_across(const uint8_t *from, size_t row_bytes, int from_width, int rows,
                              int channels, uint8_t *to, int width, ft__filter filter,
                              int32_t *weights)
{
    int32_t *first = weights, *count = first + width, *weight = count + width;
    int taps = ft__filter_taps(filter, from_width, width), y;
    ft__filter_weights(filter, from_width, width, first, count, weight);
    for (y = 0; y < rows; ++y)
        ft__resize_row(from + (size_t)y * row_bytes, channels,
                       to + (size_t)y * (size_t)width * (size_t)channels, width, taps, first,
                       count, weight);
}

/* One output row from `count` input rows; in pieces, so that the sums stay in registers. */
static void ft__resize_column(const uint8_t *from, size_t row_bytes, size_t bytes, uint8_t *to,
                              int count, const int32_t *weight)
{
    size_t start, j;
    int k;
    for (start = 0; start < bytes; start += 64) {
        size_t piece = bytes - start < 64 ? bytes - start : 64;
        int32_t sum[64];
        for (j = 0; j < 64; ++j) sum[j] = 1 << (FT__WEIGHT_BITS - 1);
        for (k = 0; k < count; ++k) {
            const uint8_t *row = from + (size_t)k * row_bytes + start;
            for (j = 0; j < piece; ++j) sum[j] += row[j] * weight[k];
        }
        for (j = 0; j < piece; ++j) to[start + j] = ft__weighted(sum[j]);
    }
}

/* Resizes the height; rows have `bytes` samples. */
static void ft__resize_down(const uint8_t *from, size_t row_bytes, int from_height, size_t bytes,
                            uint8_t *to, int height, ft__filter filter, int32_t *weights)
{
    int32_t *first = weights, *count = first + height, *weight = count + height;
    size_t taps = (size_t)ft__filter_taps(filter, from_height, height);
    int y;
    ft__filter_weights(filter, from_height, height, first, count, weight);
    for (y = 0; y < height; ++y)
        ft__resize_column(from + (size_t)first[y] * row_bytes, row_bytes, bytes,
                          to + (size_t)y * bytes, count[y], weight + (size_t)y * taps);
}

/* Resizes 1 to 4 channels. Rows of `from` are `row_bytes` apart, so that it may be a part of a
   larger picture. The workspace is aligned for int32_t. */
static void ft__resize(const uint8_t *from, size_t row_bytes, int from_width, int from_height,
                       int channels, uint8_t *to, int width, int height, ft__filter filter,
                       void *workspace)
{
    size_t across = (size_t)width * ((size_t)ft__filter_taps(filter, from_width, width) + 2);
    size_t down = (size_t)height * ((size_t)ft__filter_taps(filter, from_height, height) + 2);
    size_t bytes = (size_t)width * (size_t)channels;
    size_t from_bytes = (size_t)from_width * (size_t)channels;
    int32_t *weights = (int32_t *)workspace;
    uint8_t *between = (uint8_t *)(weights + (across > down ? across : down));
    bool down_first = from_height > height && from_height - height > 2 * (from_width - width);
    int y;
    if (width == from_width && height == from_height) {
        for (y = 0; y < height; ++y)
            memcpy(to + (size_t)y * bytes, from + (size_t)y * row_bytes, bytes);
    } else if (height == from_height) {
        ft__resize_across(from, row_bytes, from_width, height, channels, to, width, filter,
                          weights);
    } else if (width == from_width) {
        ft__resize_down(from, row_bytes, from_height, bytes, to, height, filter, weights);
    } else if (down_first) {
        ft__resize_down(from, row_bytes, from_height, from_bytes, between, height, filter,
                        weights);
        ft__resize_across(between, from_bytes, from_width, height, channels, to, width, filter,
                          weights);
    } else {
        ft__resize_across(from, row_bytes, from_width, from_height, channels, between, width,
                          filter, weights);
        ft__resize_down(between, bytes, from_height, bytes, to, height, filter, weights);
    }
}

/* ---- Channels ---- */

/* Grey is 1 channel, grey and alpha 2, RGB 3, RGB and alpha 4. Alpha is dropped, as in Pillow's
   convert("RGB"). May work in place if the number of channels does not grow. */
static void ft__convert_channels(const uint8_t *from, int from_channels, size_t pixels,
                                 uint8_t *to, int channels)
{
    bool from_grey = from_channels < 3;
    size_t i;
    for (i = 0; i < pixels; ++i, from += from_channels, to += channels) {
        int r = from[0], g = from_grey ? r : from[1], b = from_grey ? r : from[2];
        if (channels == 1) {
            /* ITU-R 601 luma, in 16 fractional bits as in Pillow's convert("L"). */
            to[0] = from_grey ? (uint8_t)r
                              : (uint8_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
            continue;
        }
        to[0] = (uint8_t)r;
        to[1] = (uint8_t)g;
        to[2] = (uint8_t)b;
    }
}

/* ---- Geometry: torchvision's Resize and CenterCrop ---- */
typedef struct ft__geometry {
    int width, height; /* of the resized picture */
    int left, top;     /* of the network's window in it; negative if the window is larger */
} ft__geometry;

static int ft__centre(int size, int window)
{
    /* Python's int(round((size - window) / 2.0)): halves round to the even number. */
    int half = (size - window) / 2;
    if (size < window) return -((window - size) / 2);
    return half + ((size - window) % 2 && half % 2 ? 1 : 0);
}

/* Returns false if the library does not support the picture's sides. */
static bool ft__geometry_of(const ft_preprocessing *p, int width, int height, ft__geometry *g)
{
    int64_t shorter = width < height ? width : height;
    int64_t longer = width < height ? height : width;
    if (shorter < 1 || longer / shorter > FT__MOST_SIDE_RATIO) return false;
    if ((uint64_t)width * (uint64_t)height > FT__MOST_PIXELS) return false;
    g->width = p->width;
    g->height = p->height;
    g->left = g->top = 0;
    if (p->resize <= 0) return true;
    longer = p->resize * longer / shorter;
    if ((uint64_t)longer * (uint64_t)p->resize > FT__MOST_RESIZED_PIXELS) return false;
    g->width = width <= height ? p->resize : (int)longer;
    g->height = width <= height ? (int)longer : p->resize;
    g->left = ft__centre(g->width, p->width);
    g->top = ft__centre(g->height, p->height);
    return true;
}

/* Returns what is wrong with the numbers, or NULL. */
static const char *ft__preprocessing_fault(const ft_preprocessing *p)
{
    if (p->channels != 1 && p->channels != 3) return "channels must be 1 or 3";
    if (p->width < 1 || p->height < 1 || p->width > 16384 || p->height > 16384)
        return "width and height must be 1 to 16384";
    if (p->resize < 0 || p->resize > 16384) return "resize must be 0 to 16384";
    return NULL;
}

/* ---- From samples to the network's numbers ---- */

/* The position that i of a side is read from: i itself, or mirrored at the edge (which is not
   repeated); -1 (a zero) if the side is shorter than the window, as CenterCrop pads. */
static int ft__inside(int i, int size, int window)
{
    int period = 2 * (size - 1);
    if (i >= 0 && i < size) return i;
    if (size < window) return -1;
    if (period == 0) return 0;
    i %= period;
    if (i < 0) i += period;
    return i < size ? i : period - i;
}

/* The window at (left, top) of a picture -> [channels, height, width], each sample
   (value / 255 - mean) / std in float, rounded as in torchvision's ToTensor and Normalize. */
static void ft__window_to_tensor(const ft_preprocessing *p, const uint8_t *picture, int width,
                                 int height, int left, int top, bool flip, float *to)
{
    float table[256];
    int c, x, y, v;
    for (c = 0; c < p->channels; ++c) {
        float mean = p->mean[c], std = p->std[c] != 0.0f ? p->std[c] : 1.0f;
        for (v = 0; v < 256; ++v) table[v] = ((float)v / 255.0f - mean) / std;
        for (y = 0; y < p->height; ++y) {
            int row = ft__inside(top + y, height, p->height);
            const uint8_t *from = picture + (size_t)(row < 0 ? 0 : row) * (size_t)width
                                                * (size_t)p->channels + (size_t)c;
            for (x = 0; x < p->width; ++x) {
                int column = ft__inside(left + (flip ? p->width - 1 - x : x), width, p->width);
                bool outside = row < 0 || column < 0;
                *to++ = table[outside ? 0 : from[column * p->channels]];
            }
        }
    }
}

/* Converts a whole picture to the network's numbers: the plain view. `workspace` has the size that
   ft__pixels_workspace returns (0: the picture's sides are not supported). */
static size_t ft__pixels_workspace(const ft_preprocessing *p, int width, int height)
{
    ft__geometry g;
    size_t resize, picture;
    if (!ft__geometry_of(p, width, height, &g)) return 0;
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, FT__BILINEAR);
    picture = ((size_t)width * (size_t)height + (size_t)g.width * (size_t)g.height)
              * (size_t)p->channels;
    return resize && resize < SIZE_MAX / 2 ? resize + picture : 0;
}

static void ft__pixels_to_tensor(const ft_preprocessing *p, const uint8_t *pixels, int width,
                                 int height, int channels, void *workspace, float *to)
{
    ft__geometry g;
    size_t resize, count = (size_t)width * (size_t)height;
    uint8_t *converted, *resized;
    if (!ft__geometry_of(p, width, height, &g)) return;
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, FT__BILINEAR);
    converted = (uint8_t *)workspace + resize;
    resized = converted + count * (size_t)p->channels;
    ft__convert_channels(pixels, channels, count, converted, p->channels);
    ft__resize(converted, (size_t)width * (size_t)p->channels, width, height, p->channels, resized,
               g.width, g.height, FT__BILINEAR, workspace);
    ft__window_to_tensor(p, resized, g.width, g.height, g.left, g.top, false, to);
}

/* ---- Augmentation: a function of (seed, index, view) only ---- */
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
