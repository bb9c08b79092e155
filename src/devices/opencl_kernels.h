#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/convolution.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_program.h"

/* =============================================================================================
   [SECTION] devices/opencl_kernels: OpenCL: kernels
   A kernel is launched by name, with its arguments in the order of kernels.cl: ft__run_kernel, or
   step by step ft__start, ft__args and ft__go_grid.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* What runs an operator on a device. Each of the list of names has one, named ft__cl_row_NAME. */
typedef struct ft__device_row {
    ft__operator forward, backward;
    bool (*fits)(const ft__call *call, int form); /* whether FT__FORM_... can compute it; NULL: it
                                                     has one form */
    ft__conv (*product)(const ft__call *call);  /* the product that it is; NULL: it is none */
    int (*below)(const ft__call *call);         /* its second input's integers are below this;
                                                   NULL: they are lengths, up to that of input 0 */
    const char *sample;     /* what ft_check_device tries: see devices/opencl_samples */
} ft__device_row;

/* Of an operator with ft__cl_ENTRY_forward and ft__cl_ENTRY_backward. */
#define FT__DEVICE_ROW_OF(name, entry, fits, product, below, sample)                              \
    static const ft__device_row ft__cl_row_##name = {ft__cl_##entry##_forward,                    \
                                                     ft__cl_##entry##_backward, fits, product,    \
                                                     below, sample};
#define FT__DEVICE_ROW(name, entry, sample)                                                       \
    FT__DEVICE_ROW_OF(name, entry, NULL, NULL, NULL, sample)
/* Of an operator without kernels: the processor computes it. */
#define FT__NO_KERNELS(name)                                                                      \
    static const ft__device_row ft__cl_row_##name = {NULL, NULL, NULL, NULL, NULL, NULL};

enum { FT__MOST_KERNELS = 256 };

/* ---- Launching a kernel ---- */
typedef struct ft__launch {
    ft__context *context;
    const char *name;
    cl_kernel kernel;
    cl_uint next;           /* argument */
} ft__launch;

static bool ft__is_tiled(const char *name)
{
    return strcmp(name, "gather_tiled") == 0 || strcmp(name, "weight_tiled") == 0;
}

static ft__launch ft__start(ft__context *c, const char *name)
{
    ft__device *d = c->device;
    ft__launch launch;
    cl_int code = CL_SUCCESS;
    int i;
    memset(&launch, 0, sizeof launch);
    launch.context = c;
    launch.name = name;
    if (!ft__ok(c)) return launch;
    for (i = 0; i < d->kernel_count; ++i)
        if (strcmp(d->kernels[i].name, name) == 0) {
            launch.kernel = d->kernels[i].kernel;
            return launch;
        }
    launch.kernel = d->cl.clCreateKernel(d->tile_program && ft__is_tiled(name) ? d->tile_program
                                         : d->program, name, &code);
    if (!launch.kernel || code != CL_SUCCESS || d->kernel_count == FT__MOST_KERNELS) {
        ft__cl_failed(c, "clCreateKernel", name, code);
        return launch;
    }
    d->kernels[d->kernel_count].name = name;
    d->kernels[d->kernel_count++].kernel = launch.kernel;
    return launch;
}

static void ft__arg(ft__launch *l, const void *value, size_t bytes)
{
    cl_int code;
    if (!ft__ok(l->context)) return;
    code = l->context->device->cl.clSetKernelArg(l->kernel, l->next++, bytes, value);
    if (code != CL_SUCCESS) ft__cl_failed(l->context, "clSetKernelArg", l->name, code);
}

/* Passes the buffer of host memory; for NULL, a buffer that is never read. */
static void ft__arg_memory(ft__launch *l, const void *host, size_t count, int access)
{
    ft__context *c = l->context;
    cl_mem buffer = host ? ft__on_device(c, host, count * sizeof(float), access) : c->device->none;
    ft__arg(l, &buffer, sizeof buffer);
}

/* The next argument, of the kind that a letter of ft__args names. */
static void ft__arg_of(ft__launch *l, char letter, va_list *list)
{
    static const char letters[] = "RWA";
    static const int accesses[] = {FT__READ, FT__WRITE, FT__READ | FT__WRITE};
    const char *known = strchr(letters, letter);
    const ft__tensor *t = strchr("vydg", letter) ? va_arg(*list, const ft__tensor *) : NULL;
    const void *host = known || letter == 'm' || letter == 's' ? va_arg(*list, const void *) : NULL;
    size_t count = known || letter == 'm' || letter == 's' ? va_arg(*list, size_t) : 0;
    cl_mem buffer;
    cl_int number;
    float real;
    switch (letter) {
    case 'v': ft__arg_memory(l, t->value, ft__count(t), FT__READ); break;
    case 'y': ft__arg_memory(l, t->value, ft__count(t), FT__WRITE); break;
    case 'd': ft__arg_memory(l, t->gradient, ft__count(t), FT__READ); break;
    case 'g':
        ft__arg_memory(l, t->gradient, ft__count(t), t->fresh ? FT__WRITE : FT__READ | FT__WRITE);
        break;
    case 'm': ft__arg_memory(l, host, count, va_arg(*list, int)); break;
    case 's': ft__arg(l, host, count); break;
    case 'b':
        buffer = va_arg(*list, cl_mem);
        ft__arg(l, &buffer, sizeof buffer);
        break;
    case 'n':
        number = (cl_int)va_arg(*list, size_t);
        ft__arg(l, &number, sizeof number);
        break;
    case 'i':
        number = va_arg(*list, int);
        ft__arg(l, &number, sizeof number);
        break;
    case 'f':
        real = (float)va_arg(*list, double);
        ft__arg(l, &real, sizeof real);
        break;
    default: ft__arg_memory(l, host, count, accesses[known - letters]);
    }
}

static void ft__args_of(ft__launch *l, const char *format, va_list *list)
{
    for (; *format && ft__ok(l->context); ++format) ft__arg_of(l, *format, list);
}

/* The next arguments, one a letter:
       v  const ft__tensor *: its value, which the kernel reads
       y  the same: its value, which the kernel writes
       d  the same: its gradient, which the kernel reads
       g  the same: its gradient, which the kernel writes if it is fresh, else adds to
       R W A   a pointer to host memory, or NULL, and a size_t, how many numbers of four bytes: the
          kernel reads them, writes all of them, or both
       m  the same, and an int: FT__READ, FT__WRITE or both
       b  cl_mem
       n  size_t, passed as int      i  int or bool      f  float
       s  a pointer to a struct of kernels.cl, and a size_t, its bytes
   No compiler checks the types: a count that is a literal needs (size_t). */
static void ft__args(ft__launch *l, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    ft__args_of(l, format, &list);
    va_end(list);
}

/* Launches over at least x * y * z work-items, in groups of group_x * group_y * 1. */
static void ft__go_grid(ft__launch *l, size_t x, size_t y, size_t z, size_t group_x,
                        size_t group_y)
{
    ft__device *d = l->context->device;
    size_t global[3], local[3];
    cl_int code;
    local[0] = group_x;
    local[1] = group_y;
    local[2] = 1;
    global[0] = (x + group_x - 1) / group_x * group_x;
    global[1] = (y + group_y - 1) / group_y * group_y;
    global[2] = z;
    if (!ft__ok(l->context) || x == 0 || y == 0 || z == 0) return;
    code = d->cl.clEnqueueNDRangeKernel(d->queue, l->kernel, 3, NULL, global, local, 0, NULL, NULL);
    if (code != CL_SUCCESS) ft__cl_failed(l->context, "clEnqueueNDRangeKernel", l->name, code);
}

/* The same for a tiled product of `columns` and `rows`, the rows `parts` times. */
static void ft__go_tiles(ft__launch *l, size_t columns, size_t rows, size_t parts, size_t z)
{
    const ft__tile *t = &ft__cl_tiles[l->context->device->tile];
    size_t group = (size_t)t->group, wide = group * (size_t)t->x, high = group * (size_t)t->y;
    ft__go_grid(l, (columns + wide - 1) / wide * group, (rows + high - 1) / high * parts * group, z,
                group, group);
}

#define FT__GROUP ((size_t)64) /* kernels.cl's GROUP: the work-items of a group */

static void ft__launch_kernel(ft__launch *l, size_t count)
{
    ft__go_grid(l, count, 1, 1, FT__GROUP, 1);
}

/* Launches a kernel over `count` work-items, with the arguments of `format`, as in ft__args. */
static void ft__run_kernel(ft__context *c, const char *name, size_t count, const char *format, ...)
{
    ft__launch l = ft__start(c, name);
    va_list list;
    va_start(list, format);
    ft__args_of(&l, format, &list);
    va_end(list);
    ft__launch_kernel(&l, count);
}

static void ft__cl_fill(ft__context *c, float *host, size_t count, float value)
{
    ft__run_kernel(c, "fill", count, "Wnf", host, count, count, value);
}

/* ---- Opening and closing ---- */

/* CLBlast keeps its compiled programs until the process ends; some drivers are unloaded by then,
   and the process would crash. */
static void ft__clblast_close(ft__device *d)
{
    int (*clear)(void) = NULL;
    if (d->clblast && ft__library_find(d->clblast, "CLBlastClearCache", (void *)&clear)) clear();
    ft__library_close(d->clblast);
}

static void ft__cl_close(ft__context *c)
{
    ft__device *d = c->device;
    int i;
    if (!d) return;
    if (d->queue) d->cl.clFinish(d->queue);
    for (i = 0; i < 2; ++i) ft__event_drop(d, &d->news_sent[i]);
    ft__unpin(c, &d->news_pinned, d->news_mapped, 2 * sizeof *d->news_mapped);
    ft__clblast_close(d);
    c->forget = NULL;
    if (d->context) ft__device_forget(c, NULL, UINTPTR_MAX);
    for (i = 0; i < FT__SCRATCH_COUNT; ++i)
        if (d->scratch[i]) d->cl.clReleaseMemObject(d->scratch[i]);
    if (d->none) d->cl.clReleaseMemObject(d->none);
    if (d->news) d->cl.clReleaseMemObject(d->news);
    for (i = 0; i < d->kernel_count; ++i) d->cl.clReleaseKernel(d->kernels[i].kernel);
    if (d->tile_program) d->cl.clReleaseProgram(d->tile_program);
    if (d->program) d->cl.clReleaseProgram(d->program);
    if (d->second) d->cl.clReleaseCommandQueue(d->second);
    if (d->queue) d->cl.clReleaseCommandQueue(d->queue);
    if (d->context) d->cl.clReleaseContext(d->context);
    ft__library_close(d->cl.library);
    c->bytes -= d->bytes; /* scratch and the like */
    ft__release(c, d->verdicts);
    ft__release(c, d->copies);
    ft__release(c, d->kernels);
    c->device = NULL;
    ft__release(c, d);
}

/* NVIDIA's devices report their compute capability; from 8.0 on their tensor cores support tf32 and
   bf16. Under FINETUNE_EMULATE_MMA, for tests, any device has such cores. */
static void ft__tensor_choose(ft__context *c)
{
    ft__device *d = c->device;
    const char *wish = c->desc.precision;
    char vendor[64];
    uint64_t major = 0;
    ft__cl_text(&d->cl, d->place.device, CL_DEVICE_VENDOR, vendor, sizeof vendor);
    if (strstr(vendor, "NVIDIA"))
        major = ft__cl_number(&d->cl, d->place.device, FT__CL_COMPUTE_CAPABILITY_MAJOR);
    d->is_nvidias = major > 0;
#ifdef FINETUNE_EMULATE_MMA
    major = 8;
#endif
    if (!wish || major < 8) return;
    if (strcmp(wish, "tf32") == 0) d->tensor = FT__TENSOR_TF32;
    if (strcmp(wish, "bf16") == 0) d->tensor = FT__TENSOR_BF16;
}

static ft_status ft__device_start(ft__context *c)
{
    ft__device *d = c->device;
    cl_context_properties properties[3];
    cl_int code = CL_SUCCESS;
    properties[0] = CL_CONTEXT_PLATFORM;
    properties[1] = (cl_context_properties)d->place.platform;
    properties[2] = 0;
    ft__cl_text(&d->cl, d->place.device, CL_DEVICE_NAME, d->name, sizeof d->name);
    ft__cl_text(&d->cl, d->place.device, CL_DRIVER_VERSION, d->driver, sizeof d->driver);
    d->kernels = (struct ft__loaded_kernel *)ft__allocate(c, FT__MOST_KERNELS, sizeof *d->kernels);
    ft__tensor_choose(c);
    d->form = d->usual_form = d->place.is_processor ? FT__FORM_WIDE : FT__FORM_TILED;
    if (ft__cl_number(&d->cl, d->place.device, CL_DEVICE_MEM_BASE_ADDR_ALIGN)
        > 8 * FT__DEVICE_ALIGNMENT)
        return ft__fail(c, FT_DEVICE, "%s: needs buffers aligned to more than %d bytes, which is"
                        " not supported", d->name, FT__DEVICE_ALIGNMENT);
    d->context = d->cl.clCreateContext(properties, 1, &d->place.device, NULL, NULL, &code);
    if (!d->context || code != CL_SUCCESS) return ft__cl_failed(c, "clCreateContext", "", code);
    d->queue = d->cl.clCreateCommandQueue(d->context, d->place.device, 0, &code);
    if (!d->queue || code != CL_SUCCESS) return ft__cl_failed(c, "clCreateCommandQueue", "", code);
    d->overlaps = !d->place.is_processor; /* a processor would wait for itself */
    d->none = ft__cl_buffer(c, 16);
    ft__cl_report_reset(c);
    if (ft__ok(c)) d->program = ft__program_build(c, 0, false);
    return c->status;
}

/* Uses another program, made for this tile, for the tiled products; NULL: the main program. */
static void ft__take_tile(ft__context *c, int tile, cl_program program)
{
    ft__device *d = c->device;
    int i, kept = 0;
    for (i = 0; i < d->kernel_count; ++i)
        if (ft__is_tiled(d->kernels[i].name)) d->cl.clReleaseKernel(d->kernels[i].kernel);
        else d->kernels[kept++] = d->kernels[i];
    d->kernel_count = kept;
    if (d->tile_program) d->cl.clReleaseProgram(d->tile_program);
    d->tile_program = program;
    d->tile = tile;
}

/* An error in a trial is not an error of the run: it is only logged. */
static bool ft__forgive(ft__context *c, const char *what)
{
    if (ft__ok(c)) return true;
    ft__log(c, "%s: %s", what, c->text);
    c->status = FT_OK;
    c->text[0] = 0;
    c->device->lost = false; /* only memory of the trial was at risk */
    return false;
}

/* Compiles for this tile, or loads the kept program; on an error logs it, changes nothing and
   returns false. A trial's program is not kept. */
static bool ft__use_tile(ft__context *c, int tile, bool trial)
{
    cl_program program = tile > 0 ? ft__program_build(c, tile, trial) : NULL;
    if (!ft__forgive(c, "tiled products")) return false;
    ft__take_tile(c, tile, program);
    return true;
}

static void ft__device_find_clblast(ft__context *c)
{
    ft__device *d = c->device;
    const char *name = c->desc.clblast_library ? c->desc.clblast_library : "libclblast.so.1";
    d->clblast = ft__library_open(name);
    if (d->clblast) ft__library_find(d->clblast, "CLBlastSgemm", (void *)&d->gemm);
    if (d->clblast)
        ft__library_find(d->clblast, "CLBlastSgemmStridedBatched", (void *)&d->gemms);
}

static ft_status ft__cl_open_device(ft__context *c, const char *wish, char *why, size_t size)
{
    ft__device *d;
    ft_status status = FT_UNSUPPORTED;
    if (strcmp(wish, "auto") != 0 && strcmp(wish, "gpu") != 0 && strncmp(wish, "opencl:", 7) != 0) {
        snprintf(why, size, "the device must be cpu, gpu, auto or opencl:PLATFORM:DEVICE");
        return status;
    }
    d = c->device = (ft__device *)ft__allocate(c, 1, sizeof *d);
    if (!d) return c->status;
    if (ft__cl_open(&d->cl, c->desc.opencl_library, why, size)
        && ft__cl_choose(&d->cl, wish, &d->place, why, size)) {
        status = ft__device_start(c);
        if (status == FT_OK) {
            c->forget = ft__device_forget;
            ft__device_find_clblast(c);
            ft__log(c, "device opencl:%d:%d: %s", d->place.platform_index, d->place.device_index,
                    d->name);
            return status;
        }
        snprintf(why, size, "%s", c->text);
        c->status = FT_OK;
        status = FT_DEVICE;
    }
    ft__cl_close(c);
    return status;
}

static int ft__cl_tensor_type(const ft__context *c) { return c->device->tensor; }
#endif /* FINETUNE_OPENCL */
