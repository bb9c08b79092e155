#pragma once
#include "interface/training_types.h"
#include "basics/numbers.h"

/* =============================================================================================
   [SECTION] optimizers/schedules: Schedules of the learning rate
   ============================================================================================= */
/* cos(pi * x) for x in [0, 1]: the Taylor series of sin about the middle, to double precision;
   libm's cosine would make the bits of a training run depend on the system's library. */
static double ft__cos_pi(double x)
{
    double y = (0.5 - x) * 3.14159265358979323846, term = y, sum = y;
    int i;
    for (i = 1; i < 14; ++i) {
        term *= -y * y / (2.0 * i * (2.0 * i + 1.0));
        sum += term;
    }
    return sum;
}

static double ft__cosine_between(double from, double to, double share)
{
    return to + (from - to) * 0.5 * (1 + ft__cos_pi(share));
}

static const char *const ft__schedule_names[] = { /* in the order of ft_schedule */
    "constant", "step", "cosine", "one_cycle", "linear", "warm_restarts", "polynomial",
    "inverse_sqrt", "plateau"};
enum { FT__SCHEDULES = sizeof ft__schedule_names / sizeof ft__schedule_names[0] };

/* FT_PLATEAU: what the losses of the epochs so far led to. */
typedef struct ft__plateau {
    double best;            /* the lowest loss */
    int seen;               /* losses */
    int waited;             /* the last of them, none of which was lower */
    int cuts;               /* so often was the rate multiplied by gamma */
} ft__plateau;

static void ft__plateau_step(ft__plateau *p, double loss, int patience)
{
    bool better = p->seen == 0 || loss < p->best * (1 - 1e-4);
    if (better) p->best = loss;
    p->seen += 1;
    p->waited = better ? 0 : p->waited + 1;
    if (p->waited <= patience) return;
    p->cuts += 1;
    p->waited = 0;
}

/* How far step is in its cycle, of 0 to 1; cycles grow by `growth`. */
static double ft__share_of_cycle(int step, int length, double growth)
{
    double left = step, cycle = length < 1 ? 1 : length;
    if (growth <= 1) return (double)(step % (int)cycle) / cycle;
    for (; left >= cycle; cycle *= growth) left -= cycle;
    return left / cycle;
}

/* One-cycle (Smith and Topin 2018) with PyTorch's defaults: from `start` to `peak` over the first
   30 % of the steps, then to `last`, both as cosines. */
static double ft__one_cycle(int step, int steps, double start, double peak, double last)
{
    double top = 0.3 * steps - 1, end = steps - 1;
    if (step <= top) return ft__cosine_between(start, peak, top > 0 ? step / top : 1);
    if (step >= end) return last;
    return ft__cosine_between(peak, last, (step - top) / (end - top));
}

/* The factor on the learning rate at `step` (from 0) of `steps`. Warm-up rises linearly over its
   steps, as (step + 1) / warmup, before the schedule proper begins. One-cycle begins at 1/25 and
   ends at 1/25/10^4. */
static double ft__schedule(ft_schedule schedule, int step, int steps, int step_size, double gamma,
                           int warmup)
{
    if (step < warmup) return (double)(step + 1) / warmup;
    step -= warmup;
    steps -= warmup;
    if (steps < 1) steps = 1;
    switch (schedule) {
    case FT_STEP:
        return ft__power(gamma, (uint64_t)(step / (step_size < 1 ? 1 : step_size)));
    case FT_COSINE:
        return ft__cosine_between(1, 0, step < steps ? (double)step / steps : 1);
    case FT_ONE_CYCLE:
        return ft__one_cycle(step, steps, 1.0 / 25, 1, 1.0 / 25 / 1e4);
    case FT_LINEAR:
        return step < steps ? 1 - (double)step / steps : 0;
    case FT_WARM_RESTARTS:
        return ft__cosine_between(1, 0, ft__share_of_cycle(step, step_size, gamma));
    case FT_POLYNOMIAL:
        return step < steps ? ft__any_power(1 - (double)step / steps, gamma) : 0;
    case FT_INVERSE_SQRT:
        return 1 / sqrt(1 + (double)step / (warmup < 1 ? 1 : warmup));
    default:
        return 1;
    }
}
