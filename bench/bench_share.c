/* bench_share.c - pictures per second that several threads predict with one set of weights (ft_share),
   beside one model with as many threads of its own, which predicts batches or single pictures.

       make build/bench_share && build/bench_share [NETWORK [SECONDS]]     (default: resnet18 2)

   The kinds take turns, in three rounds; the best round is printed, and the bytes of each model. */
#define _POSIX_C_SOURCE 200809L
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
#include <pthread.h>
#include <time.h>

enum { MOST = 16, BATCH = 8 };

typedef struct count { size_t bytes; } count;

static void *allocate(void *user, size_t bytes, size_t alignment)
{
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, bytes)) return NULL;
    ((count *)user)->bytes += bytes;
    return memory;
}

static void release(void *user, void *memory, size_t bytes)
{
    ((count *)user)->bytes -= bytes;
    free(memory);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct worker {
    pthread_t thread;
    ft_model *model;
    int batch;
    double end;
    long done;
} worker;

static float *picture;
static size_t classes;

static void *work(void *argument)
{
    worker *w = (worker *)argument;
    float *out = (float *)malloc(sizeof *out * classes * (size_t)w->batch);
    w->done = 0;
    while (out && now() < w->end && ft_run(w->model, picture, w->batch, out, classes * (size_t)w->batch) == FT_OK)
        w->done += w->batch;
    free(out);
    return NULL;
}

/* Pictures per second of `threads` workers. */
static double rate(worker *workers, int threads, int batch, double seconds)
{
    double start = now(), total = 0;
    int i;
    for (i = 0; i < threads; ++i) {
        workers[i].batch = batch;
        workers[i].end = start + seconds;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) exit(1);
    }
    for (i = 0; i < threads; ++i) {
        pthread_join(workers[i].thread, NULL);
        total += (double)workers[i].done;
    }
    return total / (now() - start);
}

static void keep_best(double *best, double rate)
{
    if (rate > *best) *best = rate;
}

int main(int argc, char **argv)
{
    static const int threads[] = {1, 2, 4, 8};
    const char *name = argc > 1 ? argv[1] : "resnet18";
    double seconds = argc > 2 ? atof(argv[2]) : 2, best[3][4] = {{0}};
    count bytes[MOST] = {{0}}, single = {0};
    ft_desc desc;
    ft_network_options network;
    ft_model *m, *pool[4];
    worker shares[MOST] = {{0}}, one = {0};
    ft_shape shape;
    size_t each = 1, i;
    int round, k;
    memset(&desc, 0, sizeof desc);
    memset(&network, 0, sizeof network);
    desc.threads = 1;
    desc.allocator.allocate = allocate;
    desc.allocator.release = release;
    desc.allocator.user = &single;
    m = ft_create(desc);
    ft_network(m, name, network);
    if (ft_error(m)) {
        printf("%s\n", ft_error_text(m));
        return 1;
    }
    shape = ft_node_shape(m, ft_find(m, "input"));
    for (k = 1; k < shape.rank; ++k) each *= (size_t)shape.size[k];
    picture = (float *)malloc(BATCH * each * sizeof *picture);
    for (i = 0; picture && i < BATCH * each; ++i) picture[i] = (float)(i % 255) / 127.0f - 1;
    classes = (size_t)ft_class_count(m);
    for (k = 0; k < 4; ++k) {
        ft_desc own;
        memset(&own, 0, sizeof own);
        own.threads = threads[k];
        pool[k] = ft_create(own);
        ft_network(pool[k], name, network);
    }
    one.model = m;
    rate(&one, 1, 1, 0.1);
    for (k = 0; k < 8; ++k) {
        desc.allocator.user = &bytes[k];
        shares[k].model = ft_share(m, desc);
    }
    for (round = 0; round < 3; ++round)
        for (k = 0; k < 4; ++k) {
            keep_best(&best[0][k], rate(shares, threads[k], 1, seconds));
            one.model = pool[k];
            keep_best(&best[1][k], rate(&one, 1, 1, seconds));
            keep_best(&best[2][k], rate(&one, 1, BATCH, seconds));
        }
    printf("%s: the first model holds %.1f MB, each share %.1f MB more\n", name, (double)single.bytes / 1e6,
           (double)bytes[0].bytes / 1e6);
    printf("pictures/s   shares, one each   one model, one by one   one model, batches of %d\n", BATCH);
    for (k = 0; k < 4; ++k)
        printf("%d threads %15.1f %20.1f %23.1f\n", threads[k], best[0][k], best[1][k], best[2][k]);
    for (k = 0; k < 8; ++k) ft_destroy(shares[k].model);
    for (k = 0; k < 4; ++k) ft_destroy(pool[k]);
    if (ft_error(m)) printf("%s\n", ft_error_text(m));
    ft_destroy(m);
    free(picture);
    return 0;
}
