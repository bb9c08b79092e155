/* attention.c - times attention's two products and the softmax between them, softmax(q k^T) v, for 8
   samples of 12 heads, 128 steps and 64 features, on one thread: in their natural shape, [N, heads,
   L, D], and as the same numbers in three dimensions, [N * heads, L, D]. Both take turns in one run;
   the best of each counts.
     make build/attention && build/attention */
#define _POSIX_C_SOURCE 200809L
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

#include <time.h>

enum { N = 8, HEADS = 12, L = 128, D = 64, COUNT = N * HEADS * L * D };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ft_model *attention(bool four)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_input_options as_four = {.size = {HEADS, L, D}}, as_three = {.size = {L, D}};
    ft_activation_options none = {0};
    ft_node q = ft_input(m, "input", four ? as_four : as_three), k, s;
    k = ft_activation(m, "relu", "k", q, none);
    s = ft_matmul(m, "scores", q, k, (ft_matmul_options){.transpose_b = true});
    s = ft_activation(m, "softmax", "weights", s, none);
    ft_set_output(m, ft_matmul(m, "mixed", s, k, (ft_matmul_options){0}));
    return m;
}

int main(void)
{
    static float x[COUNT], y[2][COUNT];
    ft_model *model[2] = {attention(true), attention(false)};
    double best[2] = {1e9, 1e9}, t;
    int turn, i;
    for (i = 0; i < COUNT; ++i) x[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    for (turn = 0; turn < 20; ++turn)
        for (i = 0; i < 2; ++i) {
            t = now();
            ft_run(model[i], x, i ? N * HEADS : N, y[i], COUNT);
            t = now() - t;
            if (t < best[i]) best[i] = t;
        }
    printf("%s%s[N, heads, L, D]: %.2f ms, the same numbers as [N * heads, L, D]: %.2f ms, %.2f"
           " times; results are %s\n", ft_error_text(model[0]), ft_error_text(model[1]),
           1e3 * best[0], 1e3 * best[1], best[0] / best[1],
           memcmp(y[0], y[1], sizeof y[0]) == 0 ? "the same" : "DIFFERENT");
    ft_destroy(model[0]);
    ft_destroy(model[1]);
    return 0;
}
