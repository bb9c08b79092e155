/* bench_cublas.c - the products of bench_opencl.c by cuBLAS, in float32 without tensor cores, and
   with them in tf32.
       build/bench_cublas
   The libraries are opened when it runs, so it compiles without CUDA; without them, or without a
   GPU, it says so in one line and returns 1. GFLOP/s, the best of five, forward and backward (two
   products). */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* From cuda_runtime_api.h and cublas_v2.h. */
typedef int (*malloc_call)(void **, size_t);
typedef int (*copy_call)(void *, const void *, size_t, int);
typedef int (*plain_call)(void);
typedef int (*create_call)(void **);
typedef int (*mode_call)(void *, int);
typedef int (*gemm_call)(void *, int, int, int, int, int, const float *, const float *, int,
                         const float *, int, const float *, float *, int);
enum { TO_DEVICE = 1, PLAIN = 0, TRANSPOSED = 1, DEFAULT_MATH = 0, TF32_MATH = 3 };

static struct {
    malloc_call allocate;
    copy_call copy;
    plain_call wait;
    create_call create;
    mode_call set_mode;
    gemm_call gemm;
    void *handle;
} cuda;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Opens NAME.so, or that of the last versions. */
static void *library(const char *name)
{
    static const char *const ends[] = {".so", ".so.13", ".so.12", ".so.11.0", ".so.11"};
    char path[64];
    void *found = NULL;
    size_t i;
    for (i = 0; !found && i < sizeof ends / sizeof ends[0]; ++i) {
        snprintf(path, sizeof path, "%s%s", name, ends[i]);
        found = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    }
    return found;
}

static int find(void *from, const char *name, void *to)
{
    void *found = from ? dlsym(from, name) : NULL;
    memcpy(to, &found, sizeof found);
    return found != NULL;
}

static const char *open_cuda(void)
{
    void *runtime = library("libcudart"), *blas = library("libcublas");
    if (!runtime || !blas) return "libcudart or libcublas was not found";
    if (!find(runtime, "cudaMalloc", (void *)&cuda.allocate)
        || !find(runtime, "cudaMemcpy", (void *)&cuda.copy)
        || !find(runtime, "cudaDeviceSynchronize", (void *)&cuda.wait)
        || !find(blas, "cublasCreate_v2", (void *)&cuda.create)
        || !find(blas, "cublasSetMathMode", (void *)&cuda.set_mode)
        || !find(blas, "cublasSgemm_v2", (void *)&cuda.gemm)) return "a function is missing";
    return cuda.create(&cuda.handle) ? "cuBLAS finds no GPU" : NULL;
}

static float *numbers(size_t count)
{
    float *x = (float *)malloc(count * sizeof *x);
    void *device = NULL;
    size_t i;
    if (!x) exit(1);
    for (i = 0; i < count; ++i) x[i] = (float)(i % 97) / 97.0f - 0.5f;
    if (cuda.allocate(&device, count * sizeof *x)
        || cuda.copy(device, x, count * sizeof *x, TO_DEVICE)) exit(1);
    free(x);
    return (float *)device;
}

/* Matrices row by row are cuBLAS's transposed: y [m, n] = x [m, k] w^T [n, k] is y^T = w x^T. */
static void product(int m, int n, int k)
{
    size_t rows = (size_t)m, outputs = (size_t)n, inputs = (size_t)k;
    float *x = numbers(rows * inputs), *w = numbers(outputs * inputs), *y = numbers(rows * outputs);
    const float one = 1, zero = 0;
    double flop = 2.0 * m * n * k, best[2][2] = {{1e9, 1e9}, {1e9, 1e9}}, start;
    int mode, i, wrong = 0;
    for (mode = 0; mode < 2; ++mode) {
        cuda.set_mode(cuda.handle, mode ? TF32_MATH : DEFAULT_MATH);
        for (i = 0; i < 6; ++i) { /* the first one does not count */
            start = seconds();
            wrong |= cuda.gemm(cuda.handle, TRANSPOSED, PLAIN, n, m, k, &one, w, k, x, k, &zero, y, n);
            wrong |= cuda.wait();
            start = seconds() - start;
            if (i > 0 && start < best[mode][0]) best[mode][0] = start;
            start = seconds();
            wrong |= cuda.gemm(cuda.handle, PLAIN, PLAIN, k, m, n, &one, w, k, y, n, &zero, x, k);
            wrong |= cuda.gemm(cuda.handle, PLAIN, TRANSPOSED, k, n, m, &one, x, k, y, n, &zero, w, k);
            wrong |= cuda.wait();
            start = seconds() - start;
            if (i > 0 && start < best[mode][1]) best[mode][1] = start;
        }
    }
    printf("| %d x %d x %d | %.1f, %.1f | %.1f, %.1f |%s\n", m, n, k, flop / best[0][0] / 1e9,
           2 * flop / best[0][1] / 1e9, flop / best[1][0] / 1e9, 2 * flop / best[1][1] / 1e9,
           wrong ? " with an error" : "");
}

int main(void)
{
    const char *why = open_cuda();
    if (why) {
        printf("skipped: cuBLAS: %s\n", why);
        return 1;
    }
    printf("| rows x outputs x inputs | cuBLAS float32 | cuBLAS tf32 |\n| --- | --- | --- |\n");
    product(512, 512, 512);
    product(1024, 1024, 1024);
    product(4096, 4096, 4096);
    product(3136, 64, 576);
    product(784, 128, 1152);
    product(32, 1000, 512);
    return 0;
}
