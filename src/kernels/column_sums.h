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

enum { FT__COLUMNS = 64, FT__FEW_COLUMNS = 16 };

/* The sums, in float, over rows `stride` apart, of so many columns, at most FT__COLUMNS. */
FT__INLINE void ft__sum_rows_body(const float *from, size_t rows, size_t stride, size_t columns,
                                  float to[FT__COLUMNS])
{
    float sum[FT__COLUMNS] = {0};
    size_t row, j;
    for (row = 0; row < rows; ++row, from += stride)
        if (columns == FT__COLUMNS) for (j = 0; j < FT__COLUMNS; ++j) sum[j] += from[j];
        else if (columns == FT__FEW_COLUMNS)
            for (j = 0; j < FT__FEW_COLUMNS; ++j) sum[j] += from[j];
        else for (j = 0; j < columns; ++j) sum[j] += from[j];
    for (j = 0; j < FT__COLUMNS; ++j) to[j] = sum[j];
}

/* ---- Adds the sums over the rows of [rows, columns] to `to`: 64 rows at a time in float, those
   sums in double. A core takes 64 columns where there are that many for each: with 16, whose lines
   are far apart in memory, [4096, 1024] took 2.6 times as long. ---- */
typedef struct ft__column_job {
    const float *from;
    float *to;
    size_t rows, columns, each; /* columns of a core's part */
    int simd;
} ft__column_job;

FT__INLINE void ft__column_sums_body(const float *from, size_t rows, size_t columns, size_t some,
                                     float *to)
{
    double total[FT__COLUMNS] = {0};
    float sum[FT__COLUMNS];
    size_t begin, i;
    for (begin = 0; begin < rows; begin += 64) {
        ft__sum_rows_body(from + begin * columns, ft__min_size(64, rows - begin), columns, some,
                          sum);
        for (i = 0; i < some; ++i) total[i] += (double)sum[i];
    }
    for (i = 0; i < some; ++i) to[i] += (float)total[i];
}

FT__LEVELS(ft__sum_rows,
           (const float *from, size_t rows, size_t stride, size_t columns, float *to),
           ft__sum_rows_body(from, rows, stride, columns, to))
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
    job.each = columns >= (size_t)FT__COLUMNS * (size_t)c->threads ? FT__COLUMNS
                                                                       : FT__FEW_COLUMNS;
    parts = (int)((columns + job.each - 1) / job.each);
    if (rows * columns > FT__CHUNK) ft__parallel(c, parts, ft__column_sum, &job);
    else for (i = 0; i < parts; ++i) ft__column_sum(&job, i);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
