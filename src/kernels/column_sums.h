#pragma once
#include "platform/system.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/column_sums: Sums over the rows of a matrix
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3")
#endif

/* ---- Adds the sums over the rows of [rows, columns] to `to`: 64 rows at a time in float, those
   sums in double. A core takes 64 columns where there are that many for each: with 16, whose lines
   are far apart in memory, [4096, 1024] took 2.6 times as long. ---- */
enum { FT__COLUMNS_WIDE = 64, FT__COLUMNS_NARROW = 16 };

typedef struct ft__column_job {
    const float *from;
    float *to;
    size_t rows, columns, each; /* columns of a core's part */
    int simd;
} ft__column_job;

FT__INLINE void ft__column_sums_body(const float *from, size_t rows, size_t columns, size_t some,
                                     float *to)
{
    double total[FT__COLUMNS_WIDE] = {0};
    size_t begin, r, l;
    for (begin = 0; begin < rows; begin += 64) {
        size_t end = rows - begin < 64 ? rows : begin + 64;
        float sum[FT__COLUMNS_WIDE] = {0};
        for (r = begin; r < end; ++r) {
            const float *row = from + r * columns;
            if (some == FT__COLUMNS_WIDE) for (l = 0; l < FT__COLUMNS_WIDE; ++l) sum[l] += row[l];
            else if (some == FT__COLUMNS_NARROW)
                for (l = 0; l < FT__COLUMNS_NARROW; ++l) sum[l] += row[l];
            else for (l = 0; l < some; ++l) sum[l] += row[l];
        }
        for (l = 0; l < some; ++l) total[l] += (double)sum[l];
    }
    for (l = 0; l < some; ++l) to[l] += (float)total[l];
}

FT__LEVELS(ft__column_sums,
           (const float *from, size_t rows, size_t columns, size_t some, float *to),
           ft__column_sums_body(from, rows, columns, some, to))

static void ft__column_sum(void *context, int index)
{
    const ft__column_job *job = (const ft__column_job *)context;
    size_t first = (size_t)index * job->each;
    ft__column_sums[job->simd](job->from + first, job->rows, job->columns,
                               ft__min_size(job->each, job->columns - first), job->to + first);
}

static void ft__add_column_sums(ft__context *c, const float *from, size_t rows, size_t columns,
                                float *to)
{
    ft__column_job job;
    int i, parts;
    job.from = from;
    job.to = to;
    job.rows = rows;
    job.columns = columns;
    job.simd = c->simd;
    job.each = columns >= (size_t)FT__COLUMNS_WIDE * (size_t)c->threads ? FT__COLUMNS_WIDE
                                                                       : FT__COLUMNS_NARROW;
    parts = (int)((columns + job.each - 1) / job.each);
    if (rows * columns > FT__CHUNK) ft__parallel(c, parts, ft__column_sum, &job);
    else for (i = 0; i < parts; ++i) ft__column_sum(&job, i);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
