/* targets.h - every reader as a function of some bytes; see targets.c. */
#ifndef FUZZ_TARGETS_H
#define FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
    int text; /* of ten mutations, so many change numbers and words of a text */
} fuzz_target;

extern const fuzz_target fuzz_targets[];
extern const int fuzz_target_count;

/* Changes an input in place, within `most` bytes; returns its new size. */
size_t fuzz_mutate(uint8_t *data, size_t size, size_t most, uint64_t *random, int text);

#endif
