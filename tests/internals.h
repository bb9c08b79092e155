/* internals.h - the implementation itself, for programs that test what only it sees. Its public
   functions are static in them, so that the compiler leaves out what a program does not reach: that
   takes test_elementary.c from 12 seconds to 3. */
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
