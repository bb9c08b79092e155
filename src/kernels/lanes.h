#pragma once
#include "platform/system.h"

/* =============================================================================================
   [SECTION] kernels/lanes: Loops over blocks of a fixed length
   ============================================================================================= */
/* Loops process this many numbers at a time, in local copies: compilers vectorise loops of a known
   length over memory that cannot overlap, even with -O2. The remainder is processed the same way,
   so that a number's bits do not depend on its position. */
#define FT__LANES 32

FT__INLINE void ft__load_lanes(float *lanes, const float *from, size_t count)
{
    if (count >= FT__LANES) memcpy(lanes, from, FT__LANES * sizeof *lanes);
    else {
        memset(lanes, 0, FT__LANES * sizeof *lanes);
        memcpy(lanes, from, count * sizeof *lanes);
    }
}

FT__INLINE void ft__store_lanes(float *to, const float *lanes, size_t count)
{
    if (count >= FT__LANES) memcpy(to, lanes, FT__LANES * sizeof *lanes);
    else memcpy(to, lanes, count * sizeof *lanes);
}
