/* check.h - counted checks for every test program; none stops at the first failure.
   The last line of a program is "NAME: N passed, N failed, N skipped"; `make test` adds them up. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static long check_passed, check_failed, check_skipped;

#define CHECK(condition, ...)                                                                    \
    do {                                                                                         \
        if (condition) check_passed += 1;                                                        \
        else {                                                                                   \
            check_failed += 1;                                                                   \
            if (check_failed <= 40) {                                                            \
                printf("%s:%d: FAILED %s: ", __FILE__, __LINE__, #condition);                    \
                printf(__VA_ARGS__);                                                             \
                printf("\n");                                                                    \
            }                                                                                    \
        }                                                                                        \
    } while (0)

#define SKIP(why)                                                                                \
    do {                                                                                         \
        check_skipped += 1;                                                                      \
        printf("%s:%d: skipped: %s\n", __FILE__, __LINE__, why);                                 \
    } while (0)

/* Counts a SIMD level that this CPU lacks, or that was not compiled, as skipped, unless it belongs
   to another family of CPUs. */
static inline void skip_level(const char *level)
{
#if defined(__x86_64__) || defined(__i386__)
    static const char family[] = "sse2 avx2 avx512";
#elif defined(__aarch64__)
    static const char family[] = "neon";
#else
    static const char family[] = "";
#endif
    char why[64];
    snprintf(why, sizeof why, "no %s here", level);
    if (strstr(family, level)) SKIP(why);
}

/* Written so that NaN on either side fails. */
#define CLOSE(got, want, tolerance) (fabs((double)(got) - (double)(want)) <= (double)(tolerance))

/* The largest difference so far: once it is NaN it stays so, whatever follows, and fails every bound. */
static inline double worse(double worst, double difference)
{
    return difference <= worst || isnan(worst) ? worst : difference;
}

static int check_done(const char *name)
{
    printf("%s: %ld passed, %ld failed, %ld skipped\n", name, check_passed, check_failed,
           check_skipped);
    return check_failed ? 1 : 0;
}

/* Does a call return at all? Tried in a child process: a driver may abort (PoCL does if there is no
   /sys), which no test here could prevent. */
static inline bool check_survives(void (*call)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child < 0) return false;
    if (child == 0) {
        call();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status);
}

#endif
