/* goldens.h - files of results that PyTorch gave: tests/golden/NAME.safetensors. Include it after
   finetune.h. */
#ifndef GOLDENS_H
#define GOLDENS_H

/* Opens one; without it there is nothing to test. */
static inline ft_file *open_golden(ft_model *m, const char *name)
{
    char path[256];
    ft_weights_options options;
    ft_file *file;
    memset(&options, 0, sizeof options);
    snprintf(path, sizeof path, "tests/golden/%s.safetensors", name);
    file = ft_file_open(m, path, options);
    if (!file) {
        printf("%s\n", ft_error_text(m));
        exit(1);
    }
    return file;
}

#endif
