/* networks.h - loads a network from a folder of goldens, keeping what the log says of it in log_text,
   and saves its trained adapter. Include it after finetune.h and check.h. */
#ifndef NETWORKS_H
#define NETWORKS_H

#include "log.h"
#include <sys/stat.h>

static ft_model *load_from(const char *folder, const char *name, ft_load_options options)
{
    ft_model *m = ft_create((ft_desc){.log = collect, .threads = 2});
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    log_text[0] = 0;
    ft_load(m, path, options);
    return m;
}

/* Saves a trained adapter in a new folder, with its logits for test_peft.sh. */
static void save_trained(ft_model *m, const char *folder, const float *logits, size_t count)
{
    char path[400];
    FILE *file;
    mkdir(folder, 0777);
    ft_save_adapter(m, folder, (ft_save_adapter_options){0});
    CHECK(ft_error(m) == FT_OK, "%s: %s", folder, ft_error_text(m));
    snprintf(path, sizeof path, "%s/logits.f32", folder);
    file = fopen(path, "wb");
    CHECK(file && fwrite(logits, sizeof *logits, count, file) == count && fclose(file) == 0, "%s", path);
}

#endif
