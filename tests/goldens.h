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
        worst = worse(worst, d);
    }
    CHECK(largest > 0.1 && worst <= tolerance * largest, "%s: off by %g of %g", what, worst, largest);
}

/* Ten steps of AdamW (rate 1e-3, weight decay 0.01): the losses must be those of "NAME/losses". FEED
   feeds the batch. */
#define GOLDEN_STEPS(m, expected, name, FEED)                                                     \
    do {                                                                                          \
        float losses_[10];                                                                        \
        int step_;                                                                                \
        golden_numbers(expected, name, "losses", losses_, sizeof losses_);                        \
        ft_set_optimizer(m, (ft_optimizer_options){.weight_decay = 0.01f});                       \
        for (step_ = 0; step_ < 10; ++step_) {                                                    \
            float loss_;                                                                          \
            FEED;                                                                                 \
            loss_ = ft_forward(m, true);                                                          \
            CHECK(CLOSE(loss_, losses_[step_], 1e-3 * (double)losses_[step_]),                    \
                  "%s, step %d: loss %g, expected %g", name, step_, (double)loss_,                \
                  (double)losses_[step_]);                                                        \
            ft_backward(m);                                                                       \
            ft_update(m, 1e-3f);                                                                  \
        }                                                                                         \
    } while (0)

/* The bytes of a file, with zeros behind them, to be freed; NULL: it cannot be opened. */
static inline unsigned char *bytes_of_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char *content = NULL;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    content = (unsigned char *)calloc(*bytes + 128, 1);
    if (fread(content, 1, *bytes, file) != *bytes) *bytes = 0;
    fclose(file);
    return content;
}

#endif
