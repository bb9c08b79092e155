/* driver.c - runs one target on files as they are, then on mutations of them. What reaches code
   that nothing reached before joins them, as in AFL (Zalewski 2013). Always the same for one seed,
   unless -seconds ends it.
       fuzz TARGET [-runs N] [-seconds N] [-seed N] [-input FILE] FILE...
   The input of the moment stands in -input's file, so that a crash leaves it there; give it as the
   only FILE, with -runs 0, to see it again. */
#define _XOPEN_SOURCE 700
#include "targets.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 16, MOST_INPUTS = 4096, PLACES = 1 << 16, SECONDS_EACH = 20 };

void __sanitizer_cov_trace_pc(void);

static uint8_t seen[PLACES], hits[PLACES];
static int touched[PLACES], touched_count;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    int at = (int)((place ^ place >> 15) & (PLACES - 1));
    if (!hits[at]) touched[touched_count++] = at;
    if (hits[at] < 255) hits[at] += 1;
}

/* Whether the last run reached a place for the first time, or for the first time as often as in
   1, 2 to 3, 4 to 7, ... passes. */
static int is_new(void)
{
    int i, found = 0;
    for (i = 0; i < touched_count; ++i) {
        int at = touched[i], times = hits[at], bit = 0;
        while (times > 1 && bit < 7) { times >>= 1; ++bit; }
        if (!(seen[at] >> bit & 1)) found = 1;
        seen[at] = (uint8_t)(seen[at] | 1u << bit);
        hits[at] = 0;
    }
    touched_count = 0;
    return found;
}

typedef struct input { uint8_t *data; size_t size; } input;
static input inputs[MOST_INPUTS];
static int input_count;
static uint8_t buffer[MOST_BYTES];
static int keep = -1;

static void add(const uint8_t *data, size_t size)
{
    input *added;
    if (input_count == MOST_INPUTS) return;
    added = &inputs[input_count];
    added->data = (uint8_t *)malloc(size + 1);
    if (!added->data) return;
    memcpy(added->data, data, size);
    added->size = size;
    input_count += 1;
}

static void run(const fuzz_target *target, const uint8_t *data, size_t size)
{
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1); /* of its size: a read behind it is seen */
    if (!copy) return;
    memcpy(copy, data, size);
    if (keep >= 0 && (pwrite(keep, data, size, 0) != (ssize_t)size
                      || ftruncate(keep, (off_t)size) != 0)) exit(2);
    alarm(SECONDS_EACH);
    target->run(copy, size);
    alarm(0);
    free(copy);
}

static void too_long(int signal_number)
{
    static const char text[] = "an input takes longer than 20 seconds\n";
    (void)signal_number;
    if (write(2, text, sizeof text - 1) < 0) _exit(3);
    abort();
}

static void read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    size = fread(buffer, 1, sizeof buffer, file);
    fclose(file);
    add(buffer, size);
}

int main(int count, char **word)
{
    const fuzz_target *target = NULL;
    uint64_t random = 1;
    long runs = 1000, seconds = 0, made, from_files;
    time_t start = time(NULL);
    int i;
    for (i = 0; i < fuzz_target_count; ++i) {
        if (count > 1 && strcmp(word[1], fuzz_targets[i].name) == 0) target = &fuzz_targets[i];
        if (count < 2) printf("%s\n", fuzz_targets[i].name);
    }
    if (!target) return count < 2 ? 0 : 2;
    for (i = 2; i < count; ++i) {
        if (word[i][0] != '-') read_file(word[i]);
        else if (i + 1 == count) return 2;
        else if (strcmp(word[i], "-runs") == 0) runs = atol(word[++i]);
        else if (strcmp(word[i], "-seconds") == 0) seconds = atol(word[++i]);
        else if (strcmp(word[i], "-seed") == 0) random = (uint64_t)atol(word[++i]) + 1;
        else if (strcmp(word[i], "-input") == 0) keep = open(word[++i], O_RDWR | O_CREAT, 0666);
        else return 2;
    }
    signal(SIGALRM, too_long);
    from_files = input_count;
    for (i = 0; i < from_files; ++i) {
        run(target, inputs[i].data, inputs[i].size);
        is_new();
    }
    for (made = 0; input_count > 0 && (seconds ? time(NULL) - start < seconds : made < runs);
         ++made) {
        const input *chosen;
        size_t size;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        chosen = &inputs[random % (uint64_t)input_count];
        memcpy(buffer, chosen->data, chosen->size);
        size = fuzz_mutate(buffer, chosen->size, sizeof buffer, &random, target->text);
        run(target, buffer, size);
        if (is_new()) add(buffer, size);
    }
    printf("%s: %ld files, %ld mutations, %ld of them kept\n", target->name, from_files, made,
           input_count - from_files);
    return 0;
}
