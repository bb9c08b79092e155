#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"
#include "basics/threads.h"
#include "kernels/gemm.h"

/* =============================================================================================
   [SECTION] kernels/transpose: To channels last and back
   Pictures are [N, C, H, W] to the user and [N, H, W, C] in memory.
   ============================================================================================= */
/* to [samples, columns, rows] = or += from [samples, rows, columns] */
typedef struct ft__transpose_job {
    const float *from;
    float *to;
    size_t channels, plane, strips; /* strips of a picture's pixels, one per index */
    int direction;
    bool add;
} ft__transpose_job;

enum { FT__TO_LAST = 0, FT__TO_FIRST = 1 };
#define FT__TRANSPOSE_STRIP ((size_t)2048)

/* Channels [begin, begin + some) of pixels [first, end). */
FT__INLINE void ft__transpose_some(const ft__transpose_job *job, size_t sample, size_t first,
                                   size_t end, size_t begin, size_t some)
{
    size_t at = sample * job->channels * job->plane + begin, p, c;
    for (p = first; p < end; ++p)
        for (c = 0; c < some; ++c) {
            size_t one = at + p * job->channels + c;
            size_t other = at - begin + (begin + c) * job->plane + p;
            const float *from = job->from + (job->direction == FT__TO_LAST ? other : one);
            float *to = job->to + (job->direction == FT__TO_LAST ? one : other);
            *to = job->add ? *to + *from : *from;
        }
}

static void ft__transpose_strip(void *context, int index)
{
    const ft__transpose_job *job = (const ft__transpose_job *)context;
    size_t sample = (size_t)index / job->strips, begin;
    size_t first = (size_t)index % job->strips * FT__TRANSPOSE_STRIP;
    size_t end = first + FT__TRANSPOSE_STRIP;
    if (end > job->plane) end = job->plane;
    if (job->channels == 3 && job->direction == FT__TO_LAST && !job->add) {
        float *to = job->to + (sample * job->plane + first) * 3;
        const float *from = job->from + sample * job->plane * 3 + first;
#ifdef FT__SHUFFLE
        for (; first + 4 <= end; first += 4, from += 4, to += 12) {
            ft__four r = FT__FOUR(from), g = FT__FOUR(from + job->plane);
            ft__four b = FT__FOUR(from + 2 * job->plane);
            ft__four low = __builtin_shufflevector(r, g, 0, 4, 1, 5); /* r0 g0 r1 g1 */
            ft__four high = __builtin_shufflevector(r, g, 2, 6, 3, 7);
            FT__PUT_FOUR(to) = __builtin_shufflevector(low, b, 0, 1, 4, 2);
            low = __builtin_shufflevector(low, b, 3, 5, 3, 5); /* g1 b1 */
            FT__PUT_FOUR(to + 4) = __builtin_shufflevector(low, high, 0, 1, 4, 5);
            FT__PUT_FOUR(to + 8) = __builtin_shufflevector(b, high, 2, 6, 7, 3);
        }
#endif
        for (; first < end; ++first, ++from, to += 3) { /* photos */
            to[0] = from[0];
            to[1] = from[job->plane];
            to[2] = from[2 * job->plane];
        }
        return;
    }
    for (begin = 0; begin < job->channels; begin += 16) /* lines that stay in the cache */
        ft__transpose_some(job, sample, first, end, begin,
                           job->channels - begin < 16 ? job->channels - begin : 16);
}

/* Transposes from [N, C, H, W] to channels last, or back. */
static void ft__transpose(ft__context *c, const ft_shape *shape, int direction, const float *from,
                          float *to, bool add)
{
    ft__transpose_job job;
    job.from = from;
    job.to = to;
    job.channels = (size_t)shape->size[1];
    job.plane = (size_t)shape->size[2] * (size_t)shape->size[3];
    job.strips = (job.plane + FT__TRANSPOSE_STRIP - 1) / FT__TRANSPOSE_STRIP;
    job.direction = direction;
    job.add = add;
    ft__parallel(c, shape->size[0] * (int)job.strips, ft__transpose_strip, &job);
}
