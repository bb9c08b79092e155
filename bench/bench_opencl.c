/* bench_opencl.c - matrix products on an OpenCL device: our kernels beside CLBlast's with its default
   parameters, in the three products of a linear layer.
       make build/bench_opencl && build/bench_opencl [DEVICE [small]]      default opencl:0:0
   GFLOP/s, the best of five, forward and backward (two products, weight and input); the outputs of
   all forms are compared. A GPU has the form "block" and a larger product too; "small": two products
   only. The rows are those of bench/OPENCL.md's table. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

#ifdef FINETUNE_OPENCL

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *numbers(size_t count, int period)
{
    float *x = (float *)malloc((count + 1) * sizeof *x);
    size_t i;
    if (!x) exit(1);
    for (i = 0; i < count; ++i) x[i] = (float)(i % (size_t)period) / (float)period - 0.5f;
    return x;
}

static double best_of_five(const ft__call *call, bool backward)
{
    ft__device *d = call->context->device;
    double best = 1e9;
    int i;
    for (i = 0; i < 5; ++i) {
        double start = seconds();
        ft__run_operator(call, backward);
        d->cl.clFinish(d->queue);
        if (seconds() - start < best) best = seconds() - start;
    }
    return best;
}

enum { FORM_COUNT = 4 };
static const int forms[] = {FT__FORM_WIDE, FT__FORM_TILED, FT__FORM_BLOCK, FT__FORM_CLBLAST};

/* "wide" is for processors, "block" for GPUs, and CLBlast may be missing. */
static bool has_form(const ft__device *d, size_t form)
{
    if (forms[form] == FT__FORM_WIDE) return d->place.is_processor;
    if (forms[form] == FT__FORM_BLOCK) return !d->place.is_processor;
    return forms[form] != FT__FORM_CLBLAST || d->gemm;
}

static void product(ft__context *c, int rows, int outputs, int inputs)
{
    size_t m = (size_t)rows, n = (size_t)outputs, k = (size_t)inputs, f, i;
    double flop = 2.0 * rows * outputs * inputs;
    ft__tensor input[2];
    ft__node node;
    ft__call call;
    float *first = numbers(m * n, 5), apart = 0;
    bool some = false;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(input, 0, sizeof input);
    node.op = FT__OP_linear;
    node.name = (char *)(uintptr_t)"linear";
    input[0].shape.rank = input[1].shape.rank = call.output.shape.rank = 2;
    input[0].shape.size[0] = call.output.shape.size[0] = rows;
    input[1].shape.size[0] = call.output.shape.size[1] = outputs;
    input[0].shape.size[1] = input[1].shape.size[1] = inputs;
    input[0].value = numbers(m * k, 97);
    input[1].value = numbers(n * k, 89);
    input[0].gradient = numbers(m * k, 3);
    input[1].gradient = numbers(n * k, 3);
    input[0].fresh = true;
    call.context = c;
    call.node = &node;
    call.input = input;
    call.input_count = 2;
    call.output.value = numbers(m * n, 7);
    call.output.gradient = numbers(m * n, 11);
    printf("| %d x %d x %d |", rows, outputs, inputs);
    for (f = 0; f < FORM_COUNT; ++f) {
        double forward, backward;
        if (!has_form(c->device, f)) {
            printf(" - |");
            continue;
        }
        c->device->form = forms[f];
        forward = best_of_five(&call, false);
        backward = best_of_five(&call, true);
        printf(" %.1f, %.1f |", flop / forward / 1e9, 2 * flop / backward / 1e9);
        fflush(stdout);
        ft__to_host(c, call.output.value, m * n * sizeof(float));
        for (i = 0; i < m * n; ++i) {
            float d = (float)fabs((double)call.output.value[i] - (double)first[i]);
            if (some && !(d <= apart)) apart = d;
            if (!some) first[i] = call.output.value[i];
        }
        some = true;
    }
    printf(" %.2g |\n", (double)apart);
}

int main(int count, char **words)
{
    ft_desc desc;
    ft_model *m;
    bool small;
    memset(&desc, 0, sizeof desc);
    desc.device = count > 1 ? words[1] : "opencl:0:0";
    m = ft_create(desc);
    if (ft_error(m)) {
        printf("%s\n", ft_error_text(m));
        return 1;
    }
    m->context.device->unchecked = true;
    small = count > 2 && strcmp(words[2], "small") == 0;
    printf("%s, GFLOP/s forward, backward:\n\n| rows x outputs x inputs | wide | tiled | block | CLBlast |"
           " largest difference |\n| --- | --- | --- | --- | --- | --- |\n", m->context.device->name);
    product(&m->context, 512, 512, 512);
    if (small) {
        product(&m->context, 32, 1000, 512);
        return ft_error(m) ? 1 : 0;
    }
    if (!m->context.device->place.is_processor) product(&m->context, 4096, 4096, 4096);
    product(&m->context, 1024, 1024, 1024);
    product(&m->context, 3136, 64, 576);
    product(&m->context, 784, 128, 1152);
    product(&m->context, 32, 1000, 512);
    return ft_error(m) ? 1 : 0;
}

#else

int main(void)
{
    printf("built without OpenCL's headers\n");
    return 0;
}

#endif
