/* log.h - what a model's log said: desc.log = collect; log_text[0] = 0 empties it. */
#ifndef LOG_H
#define LOG_H

#include <string.h>

static char log_text[1 << 16];

static void collect(void *user, const char *line)
{
    size_t at = strlen(log_text), more = strlen(line);
    (void)user;
    if (at + more + 2 > sizeof log_text) return;
    memcpy(log_text + at, line, more);
    memcpy(log_text + at + more, "\n", 2);
}

#endif
