#pragma once

/* =============================================================================================
   [SECTION] interface/requirements: What the compiler must offer
   ============================================================================================= */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "finetune.h needs NaN and infinity to be honoured: compile without -ffast-math"
#endif

#define FINETUNE_VERSION "0.1.0"
#define FINETUNE_MAX_RANK 6 /* dimensions of a tensor, the batch included */
#ifndef FINETUNE_API
#define FINETUNE_API extern
#endif
