/* internals.h - the implementation, for tests of what only it can see. The public functions are
   static here, so that the compiler drops those that a program does not use: test_elementary.c then
   compiles in 3 seconds instead of 12. */
#ifndef INTERNALS_H
#define INTERNALS_H

#define FINETUNE_API static
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

#endif
