#pragma once
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/arrays: Arrays that grow
   ============================================================================================= */
/* An array of elements of `size` bytes. */
typedef struct ft__growing { void *at; size_t count, capacity, size; } ft__growing;

static FT__UNUSED void *ft__growing_add(ft__context *c, ft__growing *pile)
{
    if (pile->count == pile->capacity) {
        size_t capacity = pile->capacity ? 2 * pile->capacity : 256;
        void *grown = ft__grow(c, pile->at, pile->count, capacity, pile->size);
        if (!grown) return NULL;
        pile->at = grown;
        pile->capacity = capacity;
    }
    return (char *)pile->at + pile->size * pile->count++;
}
