#pragma once
#include "platform/context.h"
#include "basics/threads.h"

/* =============================================================================================
   [SECTION] kernels/column_sums: Sums over the rows of a matrix
   ============================================================================================= */
/* ---- Adds the sums over the rows of [rows, columns] to `to`: 64 rows at a time in float, those
   sums in double ---- */
typedef struct ft__column_job { const float *from; float *to; size_t rows, columns; }
    ft__column_job;

static void ft__column_sum(void *context, int index)
{
    const ft__column_job *job = (const ft__column_job *)context;
    size_t first = (size_t)index * 16, some = job->columns - first, r, begin, l;
    double total[16] = {0};
    if (some > 16) some = 16;
    for (begin = 0; begin < job->rows; begin += 64) {
        size_t end = job->rows - begin < 64 ? job->rows : begin + 64;
        float sum[16] = {0};
        for (r = begin; r < end; ++r) {
            const float *from = job->from + r * job->columns + first;
            if (some == 16) for (l = 0; l < 16; ++l) sum[l] += from[l];
            else for (l = 0; l < some; ++l) sum[l] += from[l];
        }
        for (l = 0; l < 16; ++l) total[l] += (double)sum[l];
    }
    for (l = 0; l < some; ++l) job->to[first + l] += (float)total[l];
}

static void ft__add_column_sums(ft__context *c, const float *from, size_t rows, size_t columns,
                                float *to)
{
    ft__column_job job;
    int i;
    job.from = from;
    job.to = to;
    job.rows = rows;
    job.columns = columns;
    if (rows * columns > FT__CHUNK)
        ft__parallel(c, (int)((columns + 15) / 16), ft__column_sum, &job);
    else for (i = 0; i < (int)((columns + 15) / 16); ++i) ft__column_sum(&job, i);
}
