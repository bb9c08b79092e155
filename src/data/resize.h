#pragma once
#include "platform/context.h"
#include "basics/numbers.h"

/* =============================================================================================
   [SECTION] data/resize: Resizing
   Pillow's Image.resize (src/libImaging/Resample.c), bit for bit. Each output sample is a weighted
   mean of input samples. To shrink, the filter is stretched by the scale, which is the
   antialiasing. Weights are rounded to 22 fractional bits. Rows are resized first, their result is
   rounded to 8 bits, then columns. Columns are first, since Pillow 13, if the height loses more
   than twice as many samples as the width.
   ============================================================================================= */
#define FT__MOST_PIXELS ((uint64_t)1 << 27)         /* of a picture; more costs too much memory */
#define FT__MOST_RESIZED_PIXELS ((uint64_t)1 << 26)
#define FT__MOST_FILE_BYTES ((uint64_t)1 << 28)
#define FT__MOST_SIDE_RATIO 256                     /* longer side / shorter side */

typedef enum ft__filter { FT__BILINEAR, FT__BICUBIC } ft__filter;

enum { FT__WEIGHT_BITS = 32 - 8 - 2 };

static double ft__filter_support(ft__filter filter) { return filter == FT__BICUBIC ? 2.0 : 1.0; }

static double ft__filter_value(ft__filter filter, double x)
{
    if (filter == FT__BICUBIC) return ft__cubic(x, -0.5);
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
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
