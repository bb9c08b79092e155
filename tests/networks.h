/* networks.h - loads a network from a folder of goldens, keeping what the log says of it in log_text.
   Include it after finetune.h. */
#ifndef NETWORKS_H
#define NETWORKS_H

#include "log.h"

static ft_model *load_from(const char *folder, const char *name, ft_load_options options)
{
    ft_model *m = ft_create((ft_desc){.log = collect, .threads = 2});
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    log_text[0] = 0;
    ft_load(m, path, options);
    return m;
}

#endif
