/* goldens.h - files of results that PyTorch gave: tests/golden/NAME.safetensors. Include it after
   finetune.h and check.h. */
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

/* Reads the tensor "NETWORK/KEY", or "KEY" if the network is "", into `to`; returns how many numbers of
   4 bytes it has. */
static inline size_t golden_numbers(ft_file *file, const char *network, const char *key, void *to, size_t bytes)
{
    char name[128];
    int index;
    ft_tensor_info info;
    snprintf(name, sizeof name, "%s%s%s", network, *network ? "/" : "", key);
    index = ft_file_find(file, name);
    CHECK(index >= 0, "%s is missing", name);
    info = ft_file_tensor(file, index);
    CHECK(info.bytes <= bytes, "%s is too large", name);
    return index >= 0 && info.bytes <= bytes && ft_file_read(file, index, to, (size_t)info.bytes) == FT_OK
        ? (size_t)info.bytes / 4 : 0;
}

/* All numbers must be near, by `tolerance` times the largest, which is above 0.1: not all are zeros. */
static inline void compare_golden(const char *what, const float *got, const float *want, size_t count, double tolerance)
{
    double largest = 0, worst = 0;
    size_t i;
    for (i = 0; i < count; ++i) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    CHECK(largest > 0.1 && worst <= tolerance * largest, "%s: off by %g of %g", what, worst, largest);
}

#endif
