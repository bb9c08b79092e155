#pragma once
#include "platform/system.h"

/* =============================================================================================
   [SECTION] basics/random: Random numbers
   Counter-based: a number is a function of (seed, use, index), so it depends neither on threads nor
   on earlier draws, and a resumed run draws the same numbers.
   The mixing is SplitMix64's finaliser (Steele, Lea, Flood 2014).
   ============================================================================================= */
enum { /* what a key is for */
    FT__USE_INITIALISE = 1, FT__USE_DROPOUT, FT__USE_ORDER, FT__USE_SPLIT, FT__USE_PER_CLASS,
    FT__USE_AUGMENT, FT__USE_GENERATE, FT__USE_BOOTSTRAP,
    FT__USE_CHANGE, FT__USE_MIX, FT__USE_BALANCE, FT__USE_SWEEP
};

FT__INLINE uint64_t ft__mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A key for one use of random numbers, from up to four numbers that name it. */
static uint64_t ft__key(uint64_t seed, uint64_t a, uint64_t b, uint64_t use)
{
    uint64_t key = ft__mix(seed + 0x9E3779B97F4A7C15u);
    key = ft__mix(key ^ (a + 0xD1B54A32D192ED03u));
    key = ft__mix(key ^ (b + 0x8CB92BA72F3D8DD7u));
    return ft__mix(key ^ (use + 0xAEF17502108EF2D9u));
}

FT__INLINE uint64_t ft__random(uint64_t key, uint64_t index)
{
    return ft__mix(key + (index + 1) * 0x9E3779B97F4A7C15u);
}

FT__INLINE float ft__uniform(uint64_t key, uint64_t index) /* [0, 1), 24 bits */
{
    return (float)(int32_t)(ft__random(key, index) >> 40) * (1.0f / 16777216.0f);
}

static uint64_t ft__hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    /* Eight bytes per round: digests of whole networks are computed often. */
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t word = 0;
    hash ^= count * 0x9E3779B97F4A7C15u;
    for (; count >= 8; count -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = ft__mix(hash ^ word) + 0x9E3779B97F4A7C15u;
    }
    word = 0;
    if (count > 0) memcpy(&word, at, count); /* `at` may be NULL for no bytes */
    return ft__mix(hash ^ word);
}

/* The same of a text; NULL is as an empty one. */
static uint64_t ft__hash_text(uint64_t hash, const char *text)
{
    return ft__hash_bytes(hash, text, text ? strlen(text) : 0);
}

/* A random order of 0..count-1 (Fisher and Yates). */
static void ft__shuffle(int *order, int count, uint64_t key)
{
    int i;
    for (i = 0; i < count; ++i) order[i] = i;
    for (i = count - 1; i > 0; --i) {
        int j = (int)(ft__random(key, (uint64_t)i) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}
