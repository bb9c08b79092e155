/* fake_opencl.c - an OpenCL loader for test_opencl_failures.c: forwards every call to the real one,
   counts objects that are not released, and fails the n-th call of a chosen function. */
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the test sets and reads. */
typedef struct fake_control {
    const char *failing;    /* the function's name */
    int at, code;           /* fails its at-th call (from 1) and all later ones if `forever` */
    int forever, calls, hits;
    int alive;              /* contexts, queues, buffers, programs, kernels and events */
    const char *broken;     /* a kernel whose text is spoilt */
    int waits;              /* calls that come back only when the device has done its work */
} fake_control;
fake_control fake;

static void *real(const char *name)
{
    static void *library;
    void *found;
    if (!library) library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "fake_opencl: no %s\n", name);
        abort();
    }
    return found;
}

static int fails(const char *name)
{
    if (!fake.failing || strcmp(name, fake.failing) != 0) return 0;
    fake.calls += 1;
    if (fake.calls != fake.at && !(fake.forever && fake.calls > fake.at)) return 0;
    fake.hits += 1;
    return 1;
}

/* Functions that return a status; `change` is added to what is alive. */
#define STATUS(name, change, parameters, arguments)                                              \
    cl_int CL_API_CALL name parameters                                                           \
    {                                                                                            \
        cl_int (CL_API_CALL *function) parameters;                                               \
        void *found = real(#name);                                                               \
        memcpy(&function, &found, sizeof found);                                                 \
        fake.alive += change;                                                                    \
        return fails(#name) ? fake.code : function arguments;                                    \
    }

/* Functions that make something. */
#define MAKER(type, name, parameters, arguments)                                                 \
    type CL_API_CALL name parameters                                                             \
    {                                                                                            \
        type (CL_API_CALL *function) parameters;                                                 \
        void *found = real(#name);                                                               \
        type made;                                                                               \
        memcpy(&function, &found, sizeof found);                                                 \
        if (fails(#name)) {                                                                      \
            if (error) *error = fake.code;                                                       \
            return NULL;                                                                         \
        }                                                                                        \
        made = function arguments;                                                               \
        fake.alive += made != NULL;                                                              \
        return made;                                                                             \
    }

/* FAKE_OPENCL_ABORTS=1 makes it a driver that ends its process, as PoCL is where there is no /sys. */
cl_int CL_API_CALL clGetPlatformIDs(cl_uint n, cl_platform_id *p, cl_uint *count)
{
    cl_int (CL_API_CALL *function)(cl_uint, cl_platform_id *, cl_uint *);
    void *found;
    if (getenv("FAKE_OPENCL_ABORTS")) {
        fprintf(stderr, "fake_opencl: no devices\n");
        abort();
    }
    found = real("clGetPlatformIDs");
    memcpy(&function, &found, sizeof found);
    return fails("clGetPlatformIDs") ? fake.code : function(n, p, count);
}
STATUS(clGetPlatformInfo, 0, (cl_platform_id p, cl_platform_info i, size_t n, void *v, size_t *s),
       (p, i, n, v, s))
STATUS(clGetDeviceIDs, 0,
       (cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id *d, cl_uint *c),
       (p, t, n, d, c))
STATUS(clGetDeviceInfo, 0, (cl_device_id d, cl_device_info i, size_t n, void *v, size_t *s),
       (d, i, n, v, s))
MAKER(cl_context, clCreateContext,
      (const cl_context_properties *p, cl_uint n, const cl_device_id *d,
       void (CL_CALLBACK *f)(const char *, const void *, size_t, void *), void *u, cl_int *error),
      (p, n, d, f, u, error))
STATUS(clReleaseContext, -1, (cl_context c), (c))
MAKER(cl_command_queue, clCreateCommandQueue,
      (cl_context c, cl_device_id d, cl_command_queue_properties p, cl_int *error),
      (c, d, p, error))
STATUS(clReleaseCommandQueue, -1, (cl_command_queue q), (q))
MAKER(cl_mem, clCreateBuffer,
      (cl_context c, cl_mem_flags f, size_t n, void *h, cl_int *error), (c, f, n, h, error))
MAKER(cl_mem, clCreateSubBuffer,
      (cl_mem m, cl_mem_flags f, cl_buffer_create_type t, const void *i, cl_int *error),
      (m, f, t, i, error))
STATUS(clReleaseMemObject, -1, (cl_mem m), (m))
MAKER(cl_program, clCreateProgramWithBinary,
      (cl_context c, cl_uint n, const cl_device_id *d, const size_t *s, const unsigned char **b,
       cl_int *status, cl_int *error),
      (c, n, d, s, b, status, error))
STATUS(clBuildProgram, 0,
       (cl_program p, cl_uint n, const cl_device_id *d, const char *o,
        void (CL_CALLBACK *f)(cl_program, void *), void *u),
       (p, n, d, o, f, u))
STATUS(clGetProgramInfo, 0, (cl_program p, cl_program_info i, size_t n, void *v, size_t *s),
       (p, i, n, v, s))
STATUS(clGetProgramBuildInfo, 0,
       (cl_program p, cl_device_id d, cl_program_build_info i, size_t n, void *v, size_t *s),
       (p, d, i, n, v, s))
STATUS(clReleaseProgram, -1, (cl_program p), (p))
MAKER(cl_kernel, clCreateKernel, (cl_program p, const char *n, cl_int *error), (p, n, error))
STATUS(clReleaseKernel, -1, (cl_kernel k), (k))
STATUS(clSetKernelArg, 0, (cl_kernel k, cl_uint i, size_t n, const void *v), (k, i, n, v))
/* Those that may leave an event, which is then alive too. */
#define COMMAND(name, waits_for_it, parameters, arguments)                                                     \
    cl_int CL_API_CALL name parameters                                                           \
    {                                                                                            \
        cl_int (CL_API_CALL *function) parameters;                                               \
        void *found = real(#name);                                                               \
        cl_int code;                                                                             \
        memcpy(&function, &found, sizeof found);                                                 \
        if (fails(#name)) return fake.code;                                                      \
        fake.waits += (waits_for_it) != 0;                                                       \
        code = function arguments;                                                               \
        fake.alive += code == CL_SUCCESS && e != NULL;                                           \
        return code;                                                                             \
    }
COMMAND(clEnqueueNDRangeKernel, 0,
        (cl_command_queue q, cl_kernel k, cl_uint n, const size_t *o, const size_t *g,
         const size_t *l, cl_uint c, const cl_event *w, cl_event *e),
        (q, k, n, o, g, l, c, w, e))
COMMAND(clEnqueueReadBuffer, b,
        (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, void *h, cl_uint c,
         const cl_event *w, cl_event *e),
        (q, m, b, o, n, h, c, w, e))
COMMAND(clEnqueueWriteBuffer, b,
        (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, const void *h, cl_uint c,
         const cl_event *w, cl_event *e),
        (q, m, b, o, n, h, c, w, e))
COMMAND(clEnqueueUnmapMemObject, 0,
        (cl_command_queue q, cl_mem m, void *h, cl_uint c, const cl_event *w, cl_event *e),
        (q, m, h, c, w, e))
COMMAND(clEnqueueMarkerWithWaitList, 0,
        (cl_command_queue q, cl_uint c, const cl_event *w, cl_event *e), (q, c, w, e))
COMMAND(clEnqueueBarrierWithWaitList, 0,
        (cl_command_queue q, cl_uint c, const cl_event *w, cl_event *e), (q, c, w, e))
STATUS(clWaitForEvents, 0, (cl_uint n, const cl_event *e), (n, e))
STATUS(clReleaseEvent, -1, (cl_event e), (e))
STATUS(clFlush, 0, (cl_command_queue q), (q))
cl_int CL_API_CALL clFinish(cl_command_queue q)
{
    cl_int (CL_API_CALL *function)(cl_command_queue);
    void *found = real("clFinish");
    memcpy(&function, &found, sizeof found);
    fake.waits += 1;
    return fails("clFinish") ? fake.code : function(q);
}

void *CL_API_CALL clEnqueueMapBuffer(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags f,
                                     size_t o, size_t n, cl_uint c, const cl_event *w, cl_event *e,
                                     cl_int *error)
{
    void *(CL_API_CALL *function)(cl_command_queue, cl_mem, cl_bool, cl_map_flags, size_t, size_t,
                                  cl_uint, const cl_event *, cl_event *, cl_int *);
    void *found = real("clEnqueueMapBuffer");
    memcpy(&function, &found, sizeof found);
    if (!fails("clEnqueueMapBuffer")) return function(q, m, b, f, o, n, c, w, e, error);
    if (error) *error = fake.code;
    return NULL;
}

cl_program CL_API_CALL clCreateProgramWithSource(cl_context c, cl_uint n, const char **texts,
                                                 const size_t *lengths, cl_int *error)
{
    cl_program (CL_API_CALL *function)(cl_context, cl_uint, const char **, const size_t *,
                                       cl_int *);
    void *found = real("clCreateProgramWithSource");
    char start[100];
    cl_program made;
    cl_uint i;
    memcpy(&function, &found, sizeof found);
    if (fails("clCreateProgramWithSource")) {
        if (error) *error = fake.code;
        return NULL;
    }
    if (fake.broken) snprintf(start, sizeof start, "__kernel void %s(", fake.broken);
    for (i = 0; fake.broken && i < n; ++i)
        if (strstr(texts[i], start)) texts[i] = "__kernel void oops(__global no_such_type *x) {}";
    made = function(c, n, texts, lengths, error);
    fake.alive += made != NULL;
    return made;
}
