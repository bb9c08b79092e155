#pragma once
#include "interface/types.h"
#include "data/resize.h"

/* =============================================================================================
   [SECTION] data/preprocessing: From a picture to the network's input
   A picture is rows of 8-bit samples, channels interleaved. It is converted to the network's
   channels, resized exactly as in Pillow, and cropped as in torchvision; only then do its samples
   become floats. The resized 8-bit picture is kept in memory between epochs. Augmented views are
   cut from it too, so that a view's numbers do not depend on whether the picture was kept or
   decoded again.
   The functions here may run on any thread: they allocate nothing and get their workspaces from
   the caller.
   ============================================================================================= */
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
static ft__filter ft__filter_of(const ft_preprocessing *p)
{
    return p->bicubic ? FT__BICUBIC : FT__BILINEAR;
}

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
    g->width = width <= height || p->stretch ? p->resize : (int)longer;
    g->height = width <= height && !p->stretch ? (int)longer : p->resize;
    g->left = ft__centre(g->width, p->width);
    g->top = ft__centre(g->height, p->height);
    return true;
}

/* Returns what is wrong with the numbers, or NULL. */
static const char *ft__preprocessing_fault(const ft_preprocessing *p)
{
    if (p->channels == 0 && p->width == 0 && p->height == 0) return "none is set";
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
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, ft__filter_of(p));
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
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, ft__filter_of(p));
    converted = (uint8_t *)workspace + resize;
    resized = converted + count * (size_t)p->channels;
    ft__convert_channels(pixels, channels, count, converted, p->channels);
    ft__resize(converted, (size_t)width * (size_t)p->channels, width, height, p->channels, resized,
               g.width, g.height, ft__filter_of(p), workspace);
    ft__window_to_tensor(p, resized, g.width, g.height, g.left, g.top, false, to);
}
