/* formula.h - the values of the function `formula` in make_goldens.py, bit for bit. */
#ifndef FORMULA_H
#define FORMULA_H

#include <stddef.h>
#include <stdint.h>

static void by_formula(const char *name, float *to, size_t count, double low, double high)
{
    uint64_t seed = 0xCBF29CE484222325u; /* FNV-1a of the name */
    const char *at;
    size_t i;
    for (at = name; *at; ++at) seed = (seed ^ (unsigned char)*at) * 0x100000001B3u;
    for (i = 0; i < count; ++i) { /* SplitMix64's finaliser */
        uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        to[i] = (float)(low + (high - low) * ((double)(z >> 40) / 16777216.0));
    }
}

#endif
