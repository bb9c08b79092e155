#pragma once
#include "kernels/rotary.h"
#include "data/preprocessing.h"

/* =============================================================================================
   [SECTION] data/picture_changes: Changes of a picture
   Each function makes a changed copy of one picture: rows of 8-bit samples, channels interleaved,
   1 (grey) or 3 (RGB). They compute what torchvision.transforms.functional does with tensors of
   uint8, in float where it does. They may run on any thread, and allocate nothing.
   ============================================================================================= */
typedef struct ft__raster { int width, height, channels; } ft__raster;

static size_t ft__raster_bytes(ft__raster r)
{
    return (size_t)r.width * (size_t)r.height * (size_t)r.channels;
}

/* Copies the window r at (left, top) of a picture, mirrored if `flip`: what ft__window_to_tensor
   reads. */
static void ft__cut_window(ft__raster r, const uint8_t *picture, int width, int height, int left,
                       int top, bool flip, uint8_t *to)
{
    int x, y, c;
    for (y = 0; y < r.height; ++y) {
        int row = ft__inside(top + y, height, r.height);
        for (x = 0; x < r.width; ++x) {
            int column = ft__inside(left + (flip ? r.width - 1 - x : x), width, r.width);
            bool outside = row < 0 || column < 0;
            const uint8_t *from = picture + (outside ? 0 : ((size_t)row * (size_t)width
                                                            + (size_t)column)
                                                           * (size_t)r.channels);
            for (c = 0; c < r.channels; ++c) *to++ = (uint8_t)(outside ? 0 : from[c]);
        }
    }
}

/* ---- Colours: each sample or pixel by itself ---- */

/* ratio * a + (1 - ratio) * b, clipped and cut to an integer. */
static uint8_t ft__blend(float a, float b, double ratio)
{
    float x = (float)ratio * a + (float)(1.0 - ratio) * b;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

static uint8_t ft__grey_of(const uint8_t *rgb)
{
    return (uint8_t)(0.2989f * (float)rgb[0] + 0.587f * (float)rgb[1] + 0.114f * (float)rgb[2]);
}

/* adjust_brightness: `factor` 0 is black, 1 the picture. */
static void ft__brightness(ft__raster r, const uint8_t *from, double factor, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i;
    for (i = 0; i < count; ++i) to[i] = ft__blend((float)from[i], 0, factor);
}

/* adjust_saturation of RGB: `factor` 0 is grey, 1 the picture. */
static void ft__saturation(ft__raster r, const uint8_t *from, double factor, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i, c;
    for (i = 0; i < count; i += 3) {
        float grey = (float)ft__grey_of(from + i);
        for (c = i; c < i + 3; ++c) to[c] = ft__blend((float)from[c], grey, factor);
    }
}

/* adjust_contrast: `factor` 0 is the mean of the picture's grey form, 1 the picture. */
static void ft__contrast(ft__raster r, const uint8_t *from, double factor, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), step = (size_t)r.channels, i;
    uint64_t sum = 0;
    float mean;
    for (i = 0; i < count; i += step) sum += step == 3 ? ft__grey_of(from + i) : from[i];
    mean = (float)((double)sum / (double)(count / step));
    for (i = 0; i < count; ++i) to[i] = ft__blend((float)from[i], mean, factor);
}

/* Hue, saturation and value of red, green and blue, all in [0, 1]. */
static void ft__to_hsv(const float *rgb, float *hsv)
{
    float r = rgb[0], g = rgb[1], b = rgb[2], most = r > g ? r : g, least = r < g ? r : g;
    float range, rc, gc, bc;
    if (b > most) most = b;
    if (b < least) least = b;
    range = most == least ? 1 : most - least;
    rc = (most - r) / range;
    gc = (most - g) / range;
    bc = (most - b) / range;
    hsv[0] = most == r ? bc - gc : most == g ? 2 + rc - bc : 4 + gc - rc;
    if (most == least) hsv[0] = 0;
    hsv[0] = hsv[0] / 6 + 1;
    hsv[0] -= floorf(hsv[0]);
    hsv[1] = most == least ? 0 : (most - least) / most;
    hsv[2] = most;
}

static void ft__from_hsv(const float *hsv, float *rgb)
{
    static const uint8_t order[6][3] = {
        {0, 3, 1}, {2, 0, 1}, {1, 0, 3}, {1, 2, 0}, {3, 1, 0}, {0, 1, 2}};
    float sixths = hsv[0] * 6, part = sixths - floorf(sixths), v = hsv[2], s = hsv[1], of[4];
    int sector = (int)sixths % 6, c;
    of[0] = v;
    of[1] = v * (1 - s);
    of[2] = v * (1 - s * part);
    of[3] = v * (1 - s * (1 - part));
    for (c = 0; c < 3; ++c) {
        float x = of[order[sector][c]];
        rgb[c] = x < 0 ? 0 : x > 1 ? 1 : x;
    }
}

/* adjust_hue of RGB: turns it by `shift` of the circle, -0.5 to 0.5. */
static void ft__hue(ft__raster r, const uint8_t *from, double shift, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i, c;
    for (i = 0; i < count; i += 3) {
        float rgb[3], hsv[3];
        for (c = 0; c < 3; ++c) rgb[c] = (float)from[i + c] / 255.0f;
        ft__to_hsv(rgb, hsv);
        hsv[0] += (float)shift;
        hsv[0] -= floorf(hsv[0]);
        ft__from_hsv(hsv, rgb);
        for (c = 0; c < 3; ++c) to[i + c] = (uint8_t)(rgb[c] * 255.999f);
    }
}

/* posterize: keeps this many of the upper bits. */
static void ft__posterize(ft__raster r, const uint8_t *from, int bits, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i;
    int mask = 256 - (1 << (8 - bits));
    for (i = 0; i < count; ++i) to[i] = (uint8_t)(from[i] & mask);
}

/* solarize: inverts the samples that are at least `threshold`. */
static void ft__solarize(ft__raster r, const uint8_t *from, double threshold, uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i;
    for (i = 0; i < count; ++i)
        to[i] = (uint8_t)((float)from[i] >= (float)threshold ? 255 - from[i] : from[i]);
}

/* How many samples of channel c have each value. */
static void ft__histogram(ft__raster r, const uint8_t *from, int c, size_t histogram[256])
{
    size_t count = ft__raster_bytes(r), i;
    memset(histogram, 0, 256 * sizeof *histogram);
    for (i = (size_t)c; i < count; i += (size_t)r.channels) histogram[from[i]] += 1;
}

static void ft__look_up(ft__raster r, const uint8_t *from, int c, const uint8_t table[256],
                        uint8_t *to)
{
    size_t count = ft__raster_bytes(r), i;
    for (i = (size_t)c; i < count; i += (size_t)r.channels) to[i] = table[from[i]];
}

/* autocontrast: each channel's least value becomes 0, its largest 255. */
static void ft__autocontrast(ft__raster r, const uint8_t *from, uint8_t *to)
{
    size_t histogram[256];
    uint8_t table[256];
    int c, v, least, most;
    for (c = 0; c < r.channels; ++c) {
        float scale;
        ft__histogram(r, from, c, histogram);
        for (least = 0; least < 255 && !histogram[least]; ++least) {}
        for (most = 255; most > 0 && !histogram[most]; --most) {}
        scale = most > least ? 255.0f * (1.0f / (float)(most - least)) : 1; /* as torch does */
        for (v = 0; v < 256; ++v) {
            float x = (float)(most > least ? v - least : v) * scale;
            table[v] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
        }
        ft__look_up(r, from, c, table, to);
    }
}

/* equalize: each channel's values become about equally frequent. */
static void ft__equalize(ft__raster r, const uint8_t *from, uint8_t *to)
{
    size_t histogram[256], step, sum;
    uint8_t table[256];
    int c, v, last;
    for (c = 0; c < r.channels; ++c) {
        ft__histogram(r, from, c, histogram);
        for (last = 255; last > 0 && !histogram[last]; --last) {}
        for (step = 0, v = 0; v < last; ++v) step += histogram[v];
        step /= 255;
        for (sum = step / 2, v = 0; v < 256; ++v) {
            size_t level = step ? sum / step : (size_t)v;
            table[v] = (uint8_t)(level < 255 ? level : 255);
            sum += histogram[v];
        }
        ft__look_up(r, from, c, table, to);
    }
}

/* ---- Neighbours and places: `to` is another picture than `from` ---- */

/* adjust_sharpness: `factor` 0 is smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, 1 the picture. The
   outermost pixels are not smoothed, but blended with themselves, which may lose a level. */
static void ft__sharpness(ft__raster r, const uint8_t *from, double factor, uint8_t *to)
{
    size_t row = (size_t)r.width * (size_t)r.channels, next = (size_t)r.channels, i = 0;
    int x, y, c, dx, dy;
    if (r.width <= 2 || r.height <= 2) {
        memcpy(to, from, ft__raster_bytes(r));
        return;
    }
    for (y = 0; y < r.height; ++y)
        for (x = 0; x < r.width; ++x)
            for (c = 0; c < r.channels; ++c, ++i) {
                bool edge = x == 0 || y == 0 || x == r.width - 1 || y == r.height - 1;
                int sum = 4 * from[i];
                for (dy = 0; dy < 3 && !edge; ++dy)
                    for (dx = 0; dx < 3; ++dx)
                        sum += from[i + (size_t)dy * row + (size_t)dx * next - row - next];
                to[i] = ft__blend((float)from[i],
                                  (float)(edge ? from[i] : (2 * sum + 13) / 26), factor);
            }
}

static void ft__mirror_down(ft__raster r, const uint8_t *from, uint8_t *to)
{
    size_t row = (size_t)r.width * (size_t)r.channels;
    int y;
    for (y = 0; y < r.height; ++y)
        memcpy(to + (size_t)y * row, from + (size_t)(r.height - 1 - y) * row, row);
}

/* The tangent is sine / cosine. */
static void ft__degrees(double angle, double *cosine, double *sine)
{
    float c, s;
    ft__turn(angle * 0.017453292519943295, &c, &s);
    *cosine = (double)c;
    *sine = (double)s;
}

typedef struct ft__affine_map { /* turned, sheared, scaled and moved about `centre` */
    double angle, shear_x, shear_y; /* degrees, clockwise */
    double scale;
    double move_x, move_y, centre_x, centre_y; /* pixels, from the picture's centre */
} ft__affine_map;

/* torchvision's _get_inverse_affine_matrix: where the changed picture's (x, y), counted from its
   centre, lies in the original: (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]). */
static void ft__affine_matrix(const ft__affine_map *a, double m[6])
{
    double cos_x, sin_x, cos_y, sin_y, cosine, sine, turn_c, turn_s, tangent;
    double x = -a->centre_x - a->move_x, y = -a->centre_y - a->move_y;
    ft__degrees(a->shear_x, &cos_x, &sin_x);
    ft__degrees(a->shear_y, &cos_y, &sin_y);
    ft__degrees(a->angle, &cosine, &sine);
    ft__degrees(a->angle - a->shear_y, &turn_c, &turn_s);
    tangent = sin_x / cos_x;
    m[0] = (cosine - turn_s * tangent / cos_y) / a->scale;
    m[1] = (turn_c * tangent / cos_y + sine) / a->scale;
    m[3] = -turn_s / cos_y / a->scale;
    m[4] = turn_c / cos_y / a->scale;
    m[2] = m[0] * x + m[1] * y + a->centre_x;
    m[5] = m[3] * x + m[4] * y + a->centre_y;
}

/* Adds `weight` of the pixel at (x, y) to sum[channels]; outside of the picture it is 0. */
static void ft__add_pixel(ft__raster r, const uint8_t *from, double x, double y, double weight,
                          double *sum)
{
    const uint8_t *at;
    int c;
    if (!(x >= 0 && y >= 0 && x < r.width && y < r.height)) return;
    at = from + ((size_t)y * (size_t)r.width + (size_t)x) * (size_t)r.channels;
    for (c = 0; c < r.channels; ++c) sum[c] += weight * at[c];
}

/* affine: reads each pixel from where the matrix says, the nearest one there or, if `smooth`, a
   mean of four (bilinear). What lies outside is black. */
static void ft__move_pixels(ft__raster r, const uint8_t *from, const double m[6], bool smooth,
                            uint8_t *to)
{
    int column, row, c;
    for (row = 0; row < r.height; ++row)
        for (column = 0; column < r.width; ++column) {
            double x = column + 0.5 - 0.5 * r.width, y = row + 0.5 - 0.5 * r.height, sum[4] = {0};
            double u = m[0] * x + m[1] * y + m[2] + 0.5 * r.width - 0.5;
            double v = m[3] * x + m[4] * y + m[5] + 0.5 * r.height - 0.5;
            double left = floor(u), top = floor(v);
            if (!smooth) ft__add_pixel(r, from, floor(u + 0.5), floor(v + 0.5), 1, sum);
            else {
                u -= left;
                v -= top;
                ft__add_pixel(r, from, left, top, (1 - u) * (1 - v), sum);
                ft__add_pixel(r, from, left + 1, top, u * (1 - v), sum);
                ft__add_pixel(r, from, left, top + 1, (1 - u) * v, sum);
                ft__add_pixel(r, from, left + 1, top + 1, u * v, sum);
            }
            for (c = 0; c < r.channels; ++c) *to++ = (uint8_t)(sum[c] + 0.5);
        }
}

enum { FT__MOST_BLUR = 64 }; /* pixels on each side */

/* Pixels on each side that gaussian_blur reads for a deviation of at most `sigma`: 3 of them. */
static int ft__blur_radius(double sigma) { return (int)ceil(3 * sigma); }

/* gaussian_blur with a kernel of 2 * radius + 1, mirrored at the edges (which are not repeated).
   `rows`: as many floats as the picture has samples. */
static void ft__blur(ft__raster r, const uint8_t *from, double sigma, int radius, float *rows,
                     uint8_t *to)
{
    float weight[2 * FT__MOST_BLUR + 1], sum = 0, *out = rows;
    size_t width = (size_t)r.width * (size_t)r.channels, i;
    int x, y, c, k;
    for (k = -radius; k <= radius; ++k) {
        double z = -0.5 * (k / sigma) * (k / sigma);
        weight[k + radius] = z < -690 ? 0 : (float)ft__exp_double(z);
        sum += weight[k + radius];
    }
    for (k = 0; k <= 2 * radius; ++k) weight[k] /= sum;
    for (y = 0; y < r.height; ++y)
        for (x = 0; x < r.width; ++x)
            for (c = 0; c < r.channels; ++c) {
                for (sum = 0, k = -radius; k <= radius; ++k)
                    sum += weight[k + radius]
                        * (float)from[(size_t)y * width
                                      + (size_t)(ft__inside(x + k, r.width, 0) * r.channels + c)];
                *out++ = sum;
            }
    for (y = 0; y < r.height; ++y)
        for (i = 0; i < width; ++i) {
            for (sum = 0, k = -radius; k <= radius; ++k)
                sum += weight[k + radius]
                    * rows[(size_t)ft__inside(y + k, r.height, 0) * width + i];
            *to++ = (uint8_t)(sum + 0.5f);
        }
}

/* ---- Any of them, by name ---- */

/* The first 14, to FT__EQUALIZE, are those of torchvision's TrivialAugmentWide and RandAugment, in
   their order. */
typedef enum ft__change_kind {
    FT__IDENTITY, FT__SHEAR_X, FT__SHEAR_Y, FT__TRANSLATE_X, FT__TRANSLATE_Y, FT__ROTATE,
    FT__BRIGHTNESS, FT__COLOR, FT__CONTRAST, FT__SHARPNESS, FT__POSTERIZE, FT__SOLARIZE,
    FT__AUTOCONTRAST, FT__EQUALIZE, FT__HUE, FT__AFFINE, FT__BLUR, FT__MIRROR_DOWN
} ft__change_kind;
enum { FT__POLICY_CHANGES = FT__EQUALIZE + 1 };

typedef struct ft__change {
    ft__change_kind kind;
    int radius;             /* FT__BLUR */
    double size;            /* as torchvision's magnitude: pixels, degrees, the factor less 1 ... */
    ft__affine_map affine;  /* FT__AFFINE */
} ft__change;

/* torchvision's _apply_op for changes of places: shears keep the upper left corner. */
static ft__affine_map ft__affine_map_of(ft__raster r, const ft__change *change)
{
    ft__affine_map a = change->affine;
    if (change->kind == FT__AFFINE) return a;
    memset(&a, 0, sizeof a);
    a.scale = 1;
    if (change->kind == FT__TRANSLATE_X) a.move_x = (int)change->size;
    if (change->kind == FT__TRANSLATE_Y) a.move_y = (int)change->size;
    if (change->kind == FT__ROTATE) a.angle = -change->size; /* F.rotate's: counter-clockwise */
    if (change->kind == FT__SHEAR_X || change->kind == FT__SHEAR_Y) {
        a.centre_x = -0.5 * r.width;
        a.centre_y = -0.5 * r.height;
    }
    return a;
}

static void ft__change_places(ft__raster r, const uint8_t *from, const ft__change *change,
                              uint8_t *to)
{
    ft__affine_map a = ft__affine_map_of(r, change);
    double m[6];
    ft__affine_matrix(&a, m);
    if (change->kind == FT__SHEAR_X) { /* the size is the tangent */
        m[1] = change->size;
        m[2] = change->size * 0.5 * r.height;
    } else if (change->kind == FT__SHEAR_Y) {
        m[3] = change->size;
        m[5] = change->size * 0.5 * r.width;
    }
    ft__move_pixels(r, from, m, change->kind == FT__AFFINE, to);
}

/* `to` is another picture than `from`. */
static void ft__change_picture(ft__raster r, const uint8_t *from, const ft__change *change,
                               float *rows, uint8_t *to)
{
    double size = change->size;
    ft__change_kind kind = change->kind;
    if (r.channels == 1 && (kind == FT__COLOR || kind == FT__HUE)) kind = FT__IDENTITY;
    switch (kind) {
    case FT__IDENTITY: memcpy(to, from, ft__raster_bytes(r)); break;
    case FT__SHEAR_X: case FT__SHEAR_Y: case FT__TRANSLATE_X: case FT__TRANSLATE_Y:
    case FT__ROTATE: case FT__AFFINE: ft__change_places(r, from, change, to); break;
    case FT__BRIGHTNESS: ft__brightness(r, from, 1 + size, to); break;
    case FT__COLOR: ft__saturation(r, from, 1 + size, to); break;
    case FT__CONTRAST: ft__contrast(r, from, 1 + size, to); break;
    case FT__SHARPNESS: ft__sharpness(r, from, 1 + size, to); break;
    case FT__POSTERIZE: ft__posterize(r, from, (int)size, to); break;
    case FT__SOLARIZE: ft__solarize(r, from, size, to); break;
    case FT__AUTOCONTRAST: ft__autocontrast(r, from, to); break;
    case FT__EQUALIZE: ft__equalize(r, from, to); break;
    case FT__HUE: ft__hue(r, from, size, to); break;
    case FT__BLUR: ft__blur(r, from, size, change->radius, rows, to); break;
    case FT__MIRROR_DOWN: ft__mirror_down(r, from, to); break;
    }
}
