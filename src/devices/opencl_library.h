#pragma once
#include "interface/types.h"
#include "platform/system.h"
#include "platform/context.h"

/* =============================================================================================
   [SECTION] devices/opencl_library: OpenCL: the library
   The loader (libOpenCL.so.1 and the like) is opened only when a device is requested: a program
   built with FINETUNE_OPENCL also starts without it. So is CLBlast, a library of matrix products.
   Without FINETUNE_OPENCL the parts opencl_... are empty.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#ifdef __APPLE__
#include <OpenCL/opencl.h>
#else
#include <CL/cl.h>
#endif
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#elif FINETUNE__POSIX
#include <dlfcn.h>
#endif

/* X(result, name, parameters): every function of OpenCL that is called. */
#define FT__CL_ENTRIES(X)                                                                        \
    X(cl_int, clGetPlatformIDs, (cl_uint, cl_platform_id *, cl_uint *))                          \
    X(cl_int, clGetPlatformInfo, (cl_platform_id, cl_platform_info, size_t, void *, size_t *))   \
    X(cl_int, clGetDeviceIDs,                                                                    \
      (cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *))                      \
    X(cl_int, clGetDeviceInfo, (cl_device_id, cl_device_info, size_t, void *, size_t *))         \
    X(cl_context, clCreateContext,                                                               \
      (const cl_context_properties *, cl_uint, const cl_device_id *,                             \
       void (CL_CALLBACK *)(const char *, const void *, size_t, void *), void *, cl_int *))      \
    X(cl_int, clReleaseContext, (cl_context))                                                    \
    X(cl_command_queue, clCreateCommandQueue,                                                    \
      (cl_context, cl_device_id, cl_command_queue_properties, cl_int *))                         \
    X(cl_int, clReleaseCommandQueue, (cl_command_queue))                                         \
    X(cl_mem, clCreateBuffer, (cl_context, cl_mem_flags, size_t, void *, cl_int *))              \
    X(cl_mem, clCreateSubBuffer,                                                                 \
      (cl_mem, cl_mem_flags, cl_buffer_create_type, const void *, cl_int *))                     \
    X(cl_int, clReleaseMemObject, (cl_mem))                                                      \
    X(cl_program, clCreateProgramWithSource,                                                     \
      (cl_context, cl_uint, const char **, const size_t *, cl_int *))                            \
    X(cl_program, clCreateProgramWithBinary,                                                     \
      (cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **,        \
       cl_int *, cl_int *))                                                                      \
    X(cl_int, clBuildProgram,                                                                    \
      (cl_program, cl_uint, const cl_device_id *, const char *,                                  \
       void (CL_CALLBACK *)(cl_program, void *), void *))                                        \
    X(cl_int, clGetProgramInfo, (cl_program, cl_program_info, size_t, void *, size_t *))         \
    X(cl_int, clGetProgramBuildInfo,                                                             \
      (cl_program, cl_device_id, cl_program_build_info, size_t, void *, size_t *))               \
    X(cl_int, clReleaseProgram, (cl_program))                                                    \
    X(cl_kernel, clCreateKernel, (cl_program, const char *, cl_int *))                           \
    X(cl_int, clReleaseKernel, (cl_kernel))                                                      \
    X(cl_int, clSetKernelArg, (cl_kernel, cl_uint, size_t, const void *))                        \
    X(cl_int, clEnqueueNDRangeKernel,                                                            \
      (cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *,     \
       cl_uint, const cl_event *, cl_event *))                                                   \
    X(cl_int, clEnqueueReadBuffer,                                                               \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void *, cl_uint, const cl_event *,     \
       cl_event *))                                                                              \
    X(cl_int, clEnqueueWriteBuffer,                                                              \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint,                 \
       const cl_event *, cl_event *))                                                            \
    X(void *, clEnqueueMapBuffer,                                                                \
      (cl_command_queue, cl_mem, cl_bool, cl_map_flags, size_t, size_t, cl_uint,                 \
       const cl_event *, cl_event *, cl_int *))                                                  \
    X(cl_int, clEnqueueUnmapMemObject,                                                           \
      (cl_command_queue, cl_mem, void *, cl_uint, const cl_event *, cl_event *))                 \
    X(cl_int, clEnqueueMarkerWithWaitList,                                                       \
      (cl_command_queue, cl_uint, const cl_event *, cl_event *))                                 \
    X(cl_int, clEnqueueBarrierWithWaitList,                                                      \
      (cl_command_queue, cl_uint, const cl_event *, cl_event *))                                 \
    X(cl_int, clWaitForEvents, (cl_uint, const cl_event *))                                      \
    X(cl_int, clReleaseEvent, (cl_event))                                                        \
    X(cl_int, clFlush, (cl_command_queue))                                                       \
    X(cl_int, clFinish, (cl_command_queue))

#define FT__CL_MEMBER(result, name, parameters) result (CL_API_CALL *name) parameters;
typedef struct ft__cl { void *library; FT__CL_ENTRIES(FT__CL_MEMBER) } ft__cl;

static void *ft__library_open(const char *name)
{
#if defined(_WIN32)
    return (void *)LoadLibraryA(name);
#elif FINETUNE__POSIX
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
#else
    (void)name;
    return NULL;
#endif
}

static void ft__library_close(void *library)
{
    if (!library) return;
#if defined(_WIN32)
    FreeLibrary((HMODULE)library);
#elif FINETUNE__POSIX
    dlclose(library);
#endif
}

/* Copies a function's address to `*to`, whatever its type; false if the library lacks it. */
static bool ft__library_find(void *library, const char *name, void *to)
{
#if defined(_WIN32)
    FARPROC found = GetProcAddress((HMODULE)library, name);
    memcpy(to, &found, sizeof found);
    return found != NULL;
#elif FINETUNE__POSIX
    void *found = dlsym(library, name); /* ISO C has no cast from this to a function */
    memcpy(to, &found, sizeof found);
    return found != NULL;
#else
    (void)library;
    (void)name;
    (void)to;
    return false;
#endif
}

/* Opens the loader; false, with a line in `why`, if it or one of its functions is missing. */
static bool ft__cl_open(ft__cl *cl, const char *path, char *why, size_t size)
{
#if defined(_WIN32)
    const char *name = path ? path : "OpenCL.dll";
#elif defined(__APPLE__)
    const char *name = path ? path : "/System/Library/Frameworks/OpenCL.framework/OpenCL";
#else
    const char *name = path ? path : "libOpenCL.so.1";
#endif
    memset(cl, 0, sizeof *cl);
    cl->library = ft__library_open(name);
    if (!cl->library) {
        snprintf(why, size, "OpenCL was not found (%s cannot be opened)", name);
        return false;
    }
#define FT__CL_FIND(result, function, parameters)                                                \
    if (!ft__library_find(cl->library, #function, (void *)&cl->function)) {                      \
        snprintf(why, size, "%s has no function %s", name, #function);                           \
        ft__library_close(cl->library);                                                          \
        memset(cl, 0, sizeof *cl);                                                               \
        return false;                                                                            \
    }
    FT__CL_ENTRIES(FT__CL_FIND)
    return true;
}

/* The errors that a driver may return, by name. */
static const char *ft__cl_error_name(cl_int code)
{
    switch (code) {
#define FT__CL_ERROR(name) case name: return #name;
    FT__CL_ERROR(CL_DEVICE_NOT_FOUND) FT__CL_ERROR(CL_DEVICE_NOT_AVAILABLE)
    FT__CL_ERROR(CL_COMPILER_NOT_AVAILABLE) FT__CL_ERROR(CL_MEM_OBJECT_ALLOCATION_FAILURE)
    FT__CL_ERROR(CL_OUT_OF_RESOURCES) FT__CL_ERROR(CL_OUT_OF_HOST_MEMORY)
    FT__CL_ERROR(CL_BUILD_PROGRAM_FAILURE) FT__CL_ERROR(CL_INVALID_VALUE)
    FT__CL_ERROR(CL_INVALID_DEVICE) FT__CL_ERROR(CL_INVALID_CONTEXT)
    FT__CL_ERROR(CL_INVALID_COMMAND_QUEUE) FT__CL_ERROR(CL_INVALID_MEM_OBJECT)
    FT__CL_ERROR(CL_INVALID_BINARY) FT__CL_ERROR(CL_INVALID_PROGRAM)
    FT__CL_ERROR(CL_INVALID_PROGRAM_EXECUTABLE) FT__CL_ERROR(CL_INVALID_KERNEL_NAME)
    FT__CL_ERROR(CL_INVALID_KERNEL) FT__CL_ERROR(CL_INVALID_ARG_INDEX)
    FT__CL_ERROR(CL_INVALID_ARG_VALUE) FT__CL_ERROR(CL_INVALID_ARG_SIZE)
    FT__CL_ERROR(CL_INVALID_KERNEL_ARGS) FT__CL_ERROR(CL_INVALID_WORK_GROUP_SIZE)
    FT__CL_ERROR(CL_INVALID_BUFFER_SIZE) FT__CL_ERROR(CL_MISALIGNED_SUB_BUFFER_OFFSET)
    case -1001: return "no platform: no driver is installed";
    default: return "error";
    }
}

/* ---- Finding a device ---- */

/* One of the machine's OpenCL devices. */
typedef struct ft__cl_place {
    cl_platform_id platform;
    cl_device_id device;
    int platform_index, device_index;
    bool is_processor;
} ft__cl_place;

enum { FT__MOST_PLATFORMS = 16, FT__MOST_DEVICES = 16 };

/* Lists all devices; returns how many. A platform that fails has none. */
static int ft__cl_list(const ft__cl *cl, ft__cl_place *places, int most)
{
    cl_platform_id platforms[FT__MOST_PLATFORMS];
    cl_uint platform_count = 0, p, d;
    int count = 0;
    memset(platforms, 0, sizeof platforms);
    if (cl->clGetPlatformIDs(FT__MOST_PLATFORMS, platforms, &platform_count) != CL_SUCCESS)
        return 0;
    for (p = 0; p < platform_count && p < FT__MOST_PLATFORMS; ++p) {
        cl_device_id devices[FT__MOST_DEVICES];
        cl_uint device_count = 0;
        if (cl->clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, FT__MOST_DEVICES, devices,
                               &device_count) != CL_SUCCESS)
            continue;
        for (d = 0; d < device_count && d < FT__MOST_DEVICES && count < most; ++d) {
            cl_device_type type = CL_DEVICE_TYPE_CPU;
            ft__cl_place *place = &places[count++];
            cl->clGetDeviceInfo(devices[d], CL_DEVICE_TYPE, sizeof type, &type, NULL);
            place->platform = platforms[p];
            place->device = devices[d];
            place->platform_index = (int)p;
            place->device_index = (int)d;
            place->is_processor = !(type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR));
        }
    }
    return count;
}

static const char ft__no_devices[] = "OpenCL was found, but no device: no driver is installed";

/* A text about a device, or "" if the driver has none. */
static void ft__cl_text(const ft__cl *cl, cl_device_id device, cl_device_info what, char *text,
                        size_t size)
{
    size_t length = 0;
    text[0] = 0;
    if (cl->clGetDeviceInfo(device, what, size - 1, text, &length) != CL_SUCCESS) text[0] = 0;
    text[length < size ? length : size - 1] = 0;
}

static uint64_t ft__cl_number(const ft__cl *cl, cl_device_id device, cl_device_info what)
{
    uint64_t number = 0; /* cl_ulong, size_t and cl_uint, all little-endian where there is OpenCL */
    if (cl->clGetDeviceInfo(device, what, sizeof number, &number, NULL) != CL_SUCCESS) return 0;
    return number;
}

/* Fills `devices` with up to `most` of the machine's devices; returns how many there are, or 0 with
   a line in `why`. */
static int ft__cl_describe(const ft__context *c, ft_device_info *devices, int most, char *why,
                           size_t size)
{
    ft__cl_place places[FT__MOST_DEVICES * 2];
    ft__cl cl;
    int count, i;
    if (!ft__cl_open(&cl, c->desc.opencl_library, why, size)) return 0;
    count = ft__cl_list(&cl, places, FT__MOST_DEVICES * 2);
    if (count == 0) snprintf(why, size, "%s", ft__no_devices);
    for (i = 0; i < count && i < most; ++i) {
        const ft__cl_place *place = &places[i];
        ft_device_info *to = &devices[i];
        memset(to, 0, sizeof *to);
        snprintf(to->device, sizeof to->device, "opencl:%d:%d", place->platform_index,
                 place->device_index);
        ft__cl_text(&cl, place->device, CL_DEVICE_NAME, to->name, sizeof to->name);
        ft__cl_text(&cl, place->device, CL_DRIVER_VERSION, to->driver, sizeof to->driver);
        if (cl.clGetPlatformInfo(place->platform, CL_PLATFORM_NAME, sizeof to->platform - 1,
                                 to->platform, NULL) != CL_SUCCESS) to->platform[0] = 0;
        to->memory = ft__cl_number(&cl, place->device, CL_DEVICE_GLOBAL_MEM_SIZE);
        to->compute_units = (int)ft__cl_number(&cl, place->device, CL_DEVICE_MAX_COMPUTE_UNITS);
        to->is_processor = place->is_processor;
    }
    ft__library_close(cl.library);
    return count;
}

/* The device that `wish` names: "gpu" and "auto" the first GPU, "opencl:P:D" that one. */
static bool ft__cl_choose(const ft__cl *cl, const char *wish, ft__cl_place *chosen, char *why,
                          size_t size)
{
    ft__cl_place places[FT__MOST_DEVICES * 2];
    int count = ft__cl_list(cl, places, FT__MOST_DEVICES * 2), platform = -1, device = -1, i;
    bool named = strncmp(wish, "opencl:", 7) == 0;
    if (named && sscanf(wish + 7, "%d:%d", &platform, &device) != 2) {
        snprintf(why, size, "the form must be opencl:PLATFORM:DEVICE, such as opencl:0:0");
        return false;
    }
    for (i = 0; i < count; ++i) {
        bool fits = named ? places[i].platform_index == platform
            && places[i].device_index == device : !places[i].is_processor;
        if (!fits) continue;
        *chosen = places[i];
        return true;
    }
    if (count == 0) snprintf(why, size, "%s", ft__no_devices);
    else if (named) snprintf(why, size, "not found among the %d devices that OpenCL has",
                             count);
    else snprintf(why, size, "OpenCL has no GPU here, only the CPU itself");
    return false;
}

/* ---- CLBlast: its matrix product and its batched one, if the library is there ---- */
typedef int (*ft__clblast_gemm)(int layout, int a_transposed, int b_transposed, size_t m, size_t n,
                                size_t k, float alpha, cl_mem a, size_t a_at, size_t a_step,
                                cl_mem b, size_t b_at, size_t b_step, float beta, cl_mem out,
                                size_t out_at, size_t out_step, cl_command_queue *queue,
                                cl_event *event);
typedef int (*ft__clblast_gemms)(int layout, int a_transposed, int b_transposed, size_t m,
                                 size_t n, size_t k, float alpha, cl_mem a, size_t a_at,
                                 size_t a_step, size_t a_next, cl_mem b, size_t b_at,
                                 size_t b_step, size_t b_next, float beta, cl_mem out,
                                 size_t out_at, size_t out_step, size_t out_next, size_t count,
                                 cl_command_queue *queue, cl_event *event);
enum { FT__CL_COMPUTE_CAPABILITY_MAJOR = 0x4000 }; /* cl_nv_device_attribute_query */
enum { FT__CLBLAST_ROWS = 101, FT__CLBLAST_PLAIN = 111, FT__CLBLAST_TRANSPOSED = 112 };
#endif /* FINETUNE_OPENCL */
