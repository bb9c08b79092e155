/* libfuzzer.c - a target for LLVM's libFuzzer: with -DTARGET=graph, say, and -fsanitize=fuzzer. */
#include "targets.h"
#include <string.h>

#define TEXT(name) #name
#define NAME(name) TEXT(name)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static const fuzz_target *target(void)
{
    static const fuzz_target *found;
    int i;
    for (i = 0; !found && i < fuzz_target_count; ++i)
        if (strcmp(fuzz_targets[i].name, NAME(TARGET)) == 0) found = &fuzz_targets[i];
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    target()->run(data, size);
    return 0;
}

/* Its own mutations, and ours of numbers and words. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t random = (uint64_t)seed * 2 + 1;
    if (seed % 2) return LLVMFuzzerMutate(data, size, most);
    return fuzz_mutate(data, size, most, &random, target()->text);
}
