#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "operators/table.h"
#include "devices/device.h"
#include "devices/opencl_library.h"

/* =============================================================================================
   [SECTION] devices/opencl_memory: OpenCL: memory
   Every operator reads and writes host memory by pointer; on a device each such pointer has a
   buffer. The device knows which of the two is newer and copies values only when the other side
   needs them. In a training step that runs entirely on the device, the batch is uploaded and a few
   numbers are downloaded. Values, gradients and what is kept for backward share one large
   buffer, at the plan's offsets; parameters, their gradients and moments have their own buffers.

   On a GPU neither waits for the other (`overlaps`): while a step runs, a second queue uploads the
   next batch from pinned memory into the other one of two buffers; and a step's report is
   downloaded while the next step runs. Device and host still do the same in the same order.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL

enum { /* the kernels' ids */
#define FINETUNE_LINE
#define FINETUNE_MMA /* those for tensor cores too */
#define FINETUNE_CL(name, ...) FT__KERNEL_##name,
#include "kernels.cl"
#undef FINETUNE_CL
#undef FINETUNE_MMA
#undef FINETUNE_LINE
    FT__CHUNK_COUNT
};

/* The activations' numbers in kernels.cl. */
#define FT__CL_ACTIVATION(name, value, slope) FT__CL_##name,
enum { FINETUNE_ACTIVATIONS(FT__CL_ACTIVATION) FT__CL_ACTIVATION_COUNT };

enum { FT__HOST = 1, FT__DEVICE = 2 };
enum { FT__READ = 1, FT__WRITE = 2 };

typedef struct ft__copy {   /* of host memory on the device */
    const char *host;
    size_t bytes;
    cl_mem buffer;
    int newest;             /* FT__HOST, FT__DEVICE or both */
    bool planned;           /* part of a plan's buffer */
} ft__copy;

typedef struct ft__planned { const char *host; size_t bytes; cl_mem buffer; } ft__planned;

typedef struct ft__upload { /* of an input: host memory whose values are uploaded beside a step */
    const char *host;       /* NULL: this one is free */
    size_t bytes;           /* 0: not allocated yet */
    cl_mem pinned[2];       /* host memory that the device can read by itself, ... */
    void *mapped[2];        /* ... and its address */
    cl_mem buffer[2];       /* on the device; NULL if it is part of a plan's buffer */
    cl_event sent[2];       /* when pinned[i] may be written again */
    cl_event used[2];       /* when buffer[i] may be */
    int turn;
} ft__upload;

enum { FT__MOST_UPLOADS = 16 };

/* Sizes of the tiled products: kernels.cl's TILE_GROUP, TILE_Y, TILE_X, TILE_DEPTH. They are tried
   in this order; the first is used until then. */
typedef struct ft__tile { int group, y, x, depth; } ft__tile;
static const ft__tile ft__cl_tiles[] = {{16, 4, 4, 16}, {16, 8, 8, 8}, {16, 8, 4, 16},
                                        {8, 4, 4, 16}, {8, 8, 8, 8}, {16, 2, 4, 16}};
enum { FT__TILE_COUNT = (int)(sizeof ft__cl_tiles / sizeof ft__cl_tiles[0]) };

enum { FT__SCRATCH_PACKED, FT__SCRATCH_SUMS, FT__SCRATCH_TERMS, FT__SCRATCH_SQUARES,
       FT__SCRATCH_HITS, FT__SCRATCH_STEP, FT__SCRATCH_SIDE,
       FT__SCRATCH_INPUTS, FT__SCRATCH_COUNT };
/* The forms of the matrix products; other operators have one form and ignore this. */
enum { FT__FORM_PROCESSOR = -1, FT__FORM_PLAIN, FT__FORM_TILED, FT__FORM_WIDE, FT__FORM_CLBLAST,
       FT__FORM_BLOCK, FT__FORM_TENSOR, FT__FORM_WINOGRAD, FT__FORM_COUNT };
enum { FT__TENSOR_NONE, FT__TENSOR_TF32, FT__TENSOR_BF16 }; /* what FT__FORM_TENSOR rounds to */

/* The verdict on an operator with certain shapes. */
typedef struct ft__verdict {
    uint64_t key;
    int op, form;
    float error;            /* of the form: relative to the largest value */
    double device_seconds, host_seconds; /* of a sample, forward and backward; 0: no clock */
    char shape[48];         /* of the first input */
    const char *why;        /* it runs on the processor, if it does */
} ft__verdict;

struct ft__loaded_kernel { const char *name; cl_kernel kernel; };

struct ft__device {
    ft__cl cl;
    ft__cl_place place;
    char name[128], driver[64];
    int tile;               /* in ft__cl_tiles: the one that the products run with ... */
    bool tuned;             /* ... for good */
    cl_program tile_program; /* their kernels; NULL: those of `program` */
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    struct ft__loaded_kernel *kernels; /* devices/opencl_kernels */
    int kernel_count;
    ft__copy *copies;       /* in the order of their host addresses */
    int copy_count, copy_capacity;
    ft__planned planned[8];
    cl_mem scratch[FT__SCRATCH_COUNT], none;
    size_t scratch_bytes[FT__SCRATCH_COUNT];
    bool overlaps;          /* uploads and news do not wait: on a GPU, and in tests */
    cl_command_queue second; /* for uploads; NULL until the first one */
    ft__upload uploads[FT__MOST_UPLOADS];
    cl_mem news, news_pinned; /* an ft__report; two of them in pinned memory, ... */
    ft__report *news_mapped;  /* ... mapped, used alternately */
    cl_event news_sent[2];
    size_t bytes;           /* allocated on the device */
    char build_options[200];
    bool is_nvidias;        /* and its compiler accepts that company's options */
    int tensor;             /* FT__TENSOR_NONE: there are no tensor cores, or they are not wanted */
    int form;               /* of the operator that runs now ... */
    int usual_form;         /* ... and before anything is known about it */
    void *clblast;
    ft__clblast_gemm gemm;
    ft__clblast_gemms gemms;
    ft__verdict *verdicts;
    int verdict_count, verdict_capacity;
    char said[FT__OP_COUNT]; /* operators whose fall-back was logged */
    bool unchecked;         /* for tests: kernels are not compared before they are used */
    bool checking;          /* a comparison is under way */
    bool lost;              /* a call failed: the device's contents cannot be trusted */
};

static ft_status ft__cl_failed(ft__context *c, const char *function, const char *what, cl_int code)
{
    c->device->lost = true;
    return ft__fail(c, code == CL_MEM_OBJECT_ALLOCATION_FAILURE ? FT_MEMORY : FT_DEVICE,
                    "%s: %s%s%s failed: %s (%d)", c->device->name, function, *what ? " of " : "",
                    what, ft__cl_error_name(code), (int)code);
}

/* Memory of the device counts as the model's, as host memory does. */
static void ft__cl_count(ft__context *c, size_t bytes, bool taken)
{
    c->device->bytes += taken ? bytes : 0 - bytes;
    c->bytes += taken ? bytes : 0 - bytes;
    if (c->bytes > c->bytes_peak) c->bytes_peak = c->bytes;
}

/* A buffer, or NULL with an error that names the bytes requested and available. `flags`: besides
   read and write. */
static cl_mem ft__cl_buffer_like(ft__context *c, size_t bytes, cl_mem_flags flags)
{
    ft__device *d = c->device;
    cl_int code = CL_SUCCESS;
    uint64_t whole, largest;
    cl_mem buffer;
    if (!ft__ok(c)) return NULL;
    if (bytes > ft__room(c)) {
        d->lost = true;
        ft__fail(c, FT_MEMORY, "%s: the memory budget of %zu bytes is used up: %zu are in use, %zu"
                 " of them on the device; %zu more are needed there", d->name,
                 c->desc.memory_budget, c->bytes, d->bytes, bytes);
        return NULL;
    }
    buffer = d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE | flags, bytes < 16 ? 16 : bytes,
                                  NULL, &code);
    if (buffer && code == CL_SUCCESS) {
        ft__cl_count(c, bytes, true);
        return buffer;
    }
    d->lost = true; /* the step stopped halfway: some weights may have changed, others not */
    whole = ft__cl_number(&d->cl, d->place.device, CL_DEVICE_GLOBAL_MEM_SIZE);
    largest = ft__cl_number(&d->cl, d->place.device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    ft__fail(c, FT_MEMORY, "%s: no memory for %zu bytes: %zu of %llu are in use, and one buffer has"
             " at most %llu (%s, %d)", d->name, bytes, d->bytes, (unsigned long long)whole,
             (unsigned long long)largest, ft__cl_error_name(code), (int)code);
    return NULL;
}

static cl_mem ft__cl_buffer(ft__context *c, size_t bytes)
{
    return ft__cl_buffer_like(c, bytes, 0);
}

/* Sets an error unless the code is CL_SUCCESS. */
static bool ft__cl_did(ft__context *c, const char *function, cl_int code)
{
    if (code != CL_SUCCESS) ft__cl_failed(c, function, "", code);
    return code == CL_SUCCESS;
}

/* ---- Pinned memory and events ---- */

/* Allocates host memory that the device accesses by itself, and keeps it mapped. */
static void *ft__pin(ft__context *c, size_t bytes, cl_mem *buffer)
{
    ft__device *d = c->device;
    cl_int code = CL_SUCCESS;
    void *mapped;
    *buffer = ft__cl_buffer_like(c, bytes, CL_MEM_ALLOC_HOST_PTR);
    if (!*buffer) return NULL;
    mapped = d->cl.clEnqueueMapBuffer(d->queue, *buffer, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                      bytes, 0, NULL, NULL, &code);
    return ft__cl_did(c, "clEnqueueMapBuffer", mapped ? code : CL_OUT_OF_HOST_MEMORY) ? mapped
                                                                                      : NULL;
}

static void ft__unpin(ft__context *c, cl_mem *buffer, void *mapped, size_t bytes)
{
    ft__device *d = c->device;
    if (!*buffer) return;
    if (mapped) d->cl.clEnqueueUnmapMemObject(d->queue, *buffer, mapped, 0, NULL, NULL);
    d->cl.clReleaseMemObject(*buffer);
    *buffer = NULL;
    ft__cl_count(c, bytes, false);
}

static void ft__event_drop(ft__device *d, cl_event *event)
{
    if (*event) d->cl.clReleaseEvent(*event);
    *event = NULL;
}

/* Waits for the event, if there is one, and releases it. */
static void ft__event_wait(ft__context *c, cl_event *event)
{
    ft__device *d = c->device;
    if (*event && ft__ok(c)) ft__cl_did(c, "clWaitForEvents", d->cl.clWaitForEvents(1, event));
    ft__event_drop(d, event);
}

/* ---- Uploads beside a step ---- */

/* The upload of this host memory; with `make`, a free one if there is none yet. */
static ft__upload *ft__upload_of(ft__device *d, const void *host, bool make)
{
    ft__upload *empty = NULL;
    int i;
    for (i = FT__MOST_UPLOADS - 1; i >= 0; --i) {
        if (d->uploads[i].host == (const char *)host) return &d->uploads[i];
        if (!d->uploads[i].host) empty = &d->uploads[i];
    }
    if (make && empty) empty->host = (const char *)host;
    return make ? empty : NULL;
}

/* Allocates an upload for a copy, whose buffer becomes the first of two. */
static void ft__upload_make(ft__context *c, ft__upload *u, const ft__copy *copy)
{
    ft__device *d = c->device;
    int i;
    if (u->bytes || !ft__ok(c)) return;
    u->bytes = copy->bytes;
    if (!d->second) {
        cl_int code = CL_SUCCESS;
        d->second = d->cl.clCreateCommandQueue(d->context, d->place.device, 0, &code);
        if (!ft__cl_did(c, "clCreateCommandQueue", d->second ? code : CL_OUT_OF_RESOURCES)) return;
    }
    if (!copy->planned) {
        u->buffer[0] = copy->buffer;
        u->buffer[1] = ft__cl_buffer(c, u->bytes);
    }
    for (i = 0; i < 2; ++i) u->mapped[i] = ft__pin(c, u->bytes, &u->pinned[i]);
}

/* Releases everything; the copy must not use its buffer any more. */
static void ft__upload_free(ft__context *c, ft__upload *u)
{
    ft__device *d = c->device;
    int i;
    if (u->bytes && d->second) d->cl.clFinish(d->second);
    for (i = 0; i < 2; ++i) {
        ft__event_drop(d, &u->sent[i]);
        ft__event_drop(d, &u->used[i]);
        ft__unpin(c, &u->pinned[i], u->mapped[i], u->bytes);
        if (!u->buffer[i]) continue;
        d->cl.clReleaseMemObject(u->buffer[i]);
        ft__cl_count(c, u->bytes, false);
    }
    memset(u, 0, sizeof *u);
}

/* Uploads by the second queue into the buffer that the running step does not read. The step before
   may have read it, so the write waits for `used`, and what is queued later for the write. */
static bool ft__upload_send(ft__context *c, ft__upload *u, size_t bytes)
{
    ft__device *d = c->device;
    int to = u->turn, other = 1 - to;
    ft__event_drop(d, &u->used[other]);
    return ft__cl_did(c, "clEnqueueMarkerWithWaitList",
                      d->cl.clEnqueueMarkerWithWaitList(d->queue, 0, NULL, &u->used[other]))
        && ft__cl_did(c, "clFlush", d->cl.clFlush(d->queue))
        && ft__cl_did(c, "clEnqueueWriteBuffer", d->cl.clEnqueueWriteBuffer(
            d->second, u->buffer[to], CL_FALSE, 0, bytes, u->mapped[to], u->used[to] ? 1 : 0,
            u->used[to] ? &u->used[to] : NULL, &u->sent[to]))
        && ft__cl_did(c, "clFlush", d->cl.clFlush(d->second))
        && ft__cl_did(c, "clEnqueueBarrierWithWaitList",
                      d->cl.clEnqueueBarrierWithWaitList(d->queue, 1, &u->sent[to], NULL));
}

/* The first copy whose host address is not below `host`. */
static int ft__copy_place(const ft__device *d, const void *host)
{
    int low = 0, high = d->copy_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if ((uintptr_t)d->copies[middle].host < (uintptr_t)host) low = middle + 1;
        else high = middle;
    }
    return low;
}

static ft__copy *ft__copy_of(const ft__device *d, const void *host)
{
    int at = ft__copy_place(d, host);
    return at < d->copy_count && d->copies[at].host == (const char *)host ? &d->copies[at] : NULL;
}

/* The part of a plan's buffer for `host`, or a separate buffer. */
static cl_mem ft__copy_buffer(ft__context *c, const void *host, size_t bytes, bool *planned)
{
    ft__device *d = c->device;
    size_t i;
    *planned = false;
    for (i = 0; i < sizeof d->planned / sizeof d->planned[0]; ++i) {
        const ft__planned *p = &d->planned[i];
        size_t offset = (size_t)((uintptr_t)host - (uintptr_t)p->host);
        cl_buffer_region region;
        cl_int code = CL_SUCCESS;
        cl_mem part;
        if (!p->buffer || (uintptr_t)host < (uintptr_t)p->host || offset >= p->bytes) continue;
        region.origin = offset;
        region.size = p->bytes - offset;
        part = d->cl.clCreateSubBuffer(p->buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION,
                                       &region, &code);
        *planned = true;
        if (!part || code != CL_SUCCESS) ft__cl_failed(c, "clCreateSubBuffer", "", code);
        return part;
    }
    return ft__cl_buffer(c, bytes);
}

static ft__copy *ft__copy_make(ft__context *c, const void *host, size_t bytes)
{
    ft__device *d = c->device;
    ft__upload *upload;
    ft__copy copy;
    int at;
    memset(&copy, 0, sizeof copy);
    copy.host = (const char *)host;
    copy.bytes = bytes;
    copy.newest = FT__HOST;
    copy.buffer = ft__copy_buffer(c, host, bytes, &copy.planned);
    if (!copy.buffer) return NULL;
    if (d->copy_count == d->copy_capacity) {
        int capacity = d->copy_capacity ? 2 * d->copy_capacity : 256;
        ft__copy *copies = (ft__copy *)ft__grow(c, d->copies, (size_t)d->copy_count,
                                                (size_t)capacity, sizeof *copies);
        if (!copies) {
            d->cl.clReleaseMemObject(copy.buffer);
            return NULL;
        }
        d->copies = copies;
        d->copy_capacity = capacity;
    }
    at = ft__copy_place(d, host);
    memmove(d->copies + at + 1, d->copies + at,
            (size_t)(d->copy_count - at) * sizeof *d->copies);
    d->copies[at] = copy;
    d->copy_count += 1;
    upload = ft__upload_of(d, host, false);
    if (upload) ft__upload_make(c, upload, &copy);
    return &d->copies[at];
}

static void ft__copy_down(ft__context *c, ft__copy *copy, size_t bytes)
{
    ft__device *d = c->device;
    cl_int code;
    if (copy->newest & FT__HOST) return;
    if (!copy->planned) bytes = copy->bytes; /* whole: else the rest would pass for new */
    code = d->cl.clEnqueueReadBuffer(d->queue, copy->buffer, CL_TRUE, 0, bytes,
                                     (void *)(uintptr_t)copy->host, 0, NULL, NULL);
    if (code != CL_SUCCESS) ft__cl_failed(c, "clEnqueueReadBuffer", "", code);
    copy->newest = FT__HOST | FT__DEVICE;
}

/* Called for every block of host memory that is released: drops its buffers. */
static void ft__device_forget(ft__context *c, const void *memory, size_t bytes)
{
    ft__device *d = c->device;
    int from = ft__copy_place(d, memory), to, i;
    size_t p;
    to = ft__copy_place(d, (const void *)((uintptr_t)memory + bytes));
    for (i = 0; i < FT__MOST_UPLOADS; ++i) /* noted, but never read on the device */
        if (d->uploads[i].host && !d->uploads[i].bytes
            && (uintptr_t)d->uploads[i].host - (uintptr_t)memory < bytes)
            d->uploads[i].host = NULL;
    for (i = from; i < to; ++i) {
        ft__upload *upload = ft__upload_of(d, d->copies[i].host, false);
        bool both = upload && upload->buffer[0]; /* the copy's is one of the upload's two */
        if (upload) ft__upload_free(c, upload);
        if (both) continue;
        if (!d->copies[i].planned) ft__cl_count(c, d->copies[i].bytes, false);
        d->cl.clReleaseMemObject(d->copies[i].buffer);
    }
    if (to > from) {
        memmove(d->copies + from, d->copies + to,
                (size_t)(d->copy_count - to) * sizeof *d->copies);
        d->copy_count -= to - from;
    }
    for (p = 0; p < sizeof d->planned / sizeof d->planned[0]; ++p) {
        ft__planned *planned = &d->planned[p];
        if (!planned->buffer || (uintptr_t)planned->host < (uintptr_t)memory
            || (uintptr_t)planned->host >= (uintptr_t)memory + bytes) continue;
        d->cl.clReleaseMemObject(planned->buffer);
        ft__cl_count(c, planned->bytes, false);
        memset(planned, 0, sizeof *planned);
    }
}

/* The buffer for this host memory, for a kernel that reads it, writes it, or both. */
static cl_mem ft__on_device(ft__context *c, const void *host, size_t bytes, int access)
{
    ft__device *d = c->device;
    ft__copy *copy;
    cl_int code;
    if (!ft__ok(c)) return NULL;
    copy = ft__copy_of(d, host);
    if (copy && !copy->planned && copy->bytes < bytes) { /* it was made for a smaller batch */
        bool fed = ft__upload_of(d, host, false) != NULL;
        ft__copy_down(c, copy, copy->bytes);
        ft__device_forget(c, host, 1);
        if (fed) ft__upload_of(d, host, true);
        copy = NULL;
    }
    if (!copy) copy = ft__copy_make(c, host, bytes);
    if (!copy) return NULL;
    if ((access & FT__READ) && !(copy->newest & FT__DEVICE)) {
        if (!copy->planned) bytes = copy->bytes;
        code = d->cl.clEnqueueWriteBuffer(d->queue, copy->buffer, CL_TRUE, 0, bytes, host, 0, NULL,
                                          NULL);
        if (code != CL_SUCCESS) {
            ft__cl_failed(c, "clEnqueueWriteBuffer", "", code);
            return NULL;
        }
        copy->newest = FT__HOST | FT__DEVICE;
    }
    if (access & FT__WRITE) copy->newest = FT__DEVICE;
    return copy->buffer;
}

/* ---- News: a step's report ---- */

static void ft__cl_report_reset(ft__context *c)
{
    ft__device *d = c->device;
    ft__report none;
    memset(&none, 0, sizeof none);
    if (!ft__ok(c)) return;
    if (!d->news) d->news = ft__cl_buffer(c, sizeof none);
    if (!d->news) return;
    ft__cl_did(c, "clEnqueueWriteBuffer", d->cl.clEnqueueWriteBuffer(
        d->queue, d->news, CL_TRUE, 0, sizeof none, &none, 0, NULL, NULL));
}

/* Starts the report's download after all that is queued so far. */
static bool ft__cl_report_ask(ft__context *c, int turn)
{
    ft__device *d = c->device;
    if (!ft__ok(c) || !d->overlaps) return d->overlaps;
    if (!d->news_mapped)
        d->news_mapped = (ft__report *)ft__pin(c, 2 * sizeof *d->news_mapped, &d->news_pinned);
    if (!d->news_mapped) return true;
    ft__event_drop(d, &d->news_sent[turn]);
    if (ft__cl_did(c, "clEnqueueReadBuffer", d->cl.clEnqueueReadBuffer(
            d->queue, d->news, CL_FALSE, 0, sizeof(ft__report), &d->news_mapped[turn], 0, NULL,
            &d->news_sent[turn])))
        ft__cl_did(c, "clFlush", d->cl.clFlush(d->queue));
    return true;
}

/* The report of this turn; if nothing overlaps, that of all that is queued. */
static ft__report ft__cl_report_get(ft__context *c, int turn)
{
    ft__device *d = c->device;
    ft__report news;
    memset(&news, 0, sizeof news);
    if (!ft__ok(c)) return news;
    if (d->overlaps) {
        ft__event_wait(c, &d->news_sent[turn]);
        if (ft__ok(c)) news = d->news_mapped[turn];
    } else ft__cl_did(c, "clEnqueueReadBuffer", d->cl.clEnqueueReadBuffer(
        d->queue, d->news, CL_TRUE, 0, sizeof news, &news, 0, NULL, NULL));
    return news;
}

/* Scratch memory of the device: what a kernel passes to the next one. */
static cl_mem ft__device_scratch(ft__context *c, int which, size_t bytes)
{
    ft__device *d = c->device;
    if (!ft__ok(c)) return NULL;
    if (d->scratch_bytes[which] >= bytes) return d->scratch[which];
    if (d->scratch[which]) {
        d->cl.clReleaseMemObject(d->scratch[which]);
        ft__cl_count(c, d->scratch_bytes[which], false);
    }
    d->scratch_bytes[which] = 0;
    d->scratch[which] = ft__cl_buffer(c, bytes);
    if (d->scratch[which]) d->scratch_bytes[which] = bytes;
    return d->scratch[which];
}

/* ---- What other parts ask of the copies (devices/device) ---- */

static void ft__cl_to_host(ft__context *c, const void *host, size_t bytes)
{
    ft__copy *copy = ft__copy_of(c->device, host);
    if (copy) ft__copy_down(c, copy, bytes);
}

static void ft__cl_host_wrote(ft__context *c, const void *host)
{
    ft__copy *copy = ft__copy_of(c->device, host);
    if (copy) copy->newest = FT__HOST;
}

static void ft__cl_all_to_host(ft__context *c, bool writes)
{
    int i;
    for (i = 0; i < c->device->copy_count; ++i) {
        ft__copy *copy = &c->device->copies[i];
        if (copy->planned) continue;
        ft__copy_down(c, copy, copy->bytes);
        if (writes) copy->newest = FT__HOST;
    }
}

/* The first call only notes it: whether the device reads it, and how much, is not known yet. */
static void ft__cl_host_fed(ft__context *c, const void *host, size_t bytes)
{
    ft__device *d = c->device;
    ft__copy *copy = ft__copy_of(d, host);
    ft__upload *u = d->overlaps ? ft__upload_of(d, host, true) : NULL;
    if (copy) copy->newest = FT__HOST;
    if (copy && u && copy->bytes >= bytes) ft__upload_make(c, u, copy); /* made by an earlier run */
    if (!copy || !u || bytes == 0 || bytes > u->bytes || !ft__ok(c)) return;
    u->turn = 1 - u->turn;
    ft__event_wait(c, &u->sent[u->turn]);
    if (!ft__ok(c)) return;
    memcpy(u->mapped[u->turn], host, bytes);
    if (copy->planned) /* it has one buffer, which the running step may read */
        ft__cl_did(c, "clEnqueueWriteBuffer", d->cl.clEnqueueWriteBuffer(
            d->queue, copy->buffer, CL_FALSE, 0, bytes, u->mapped[u->turn], 0, NULL,
            &u->sent[u->turn]));
    else if (ft__upload_send(c, u, bytes)) copy->buffer = u->buffer[u->turn];
    if (ft__ok(c)) copy->newest = FT__HOST | FT__DEVICE;
}

static const char *ft__cl_lost(const ft__context *c)
{
    return c->device->lost ? c->device->name : NULL;
}

static void ft__cl_plan(ft__context *c, const void *host, size_t bytes)
{
    ft__device *d = c->device;
    size_t i;
    for (i = 0; ft__ok(c) && bytes > 0 && i < sizeof d->planned / sizeof d->planned[0]; ++i) {
        ft__planned *planned = &d->planned[i];
        if (planned->buffer) continue;
        planned->buffer = ft__cl_buffer(c, bytes);
        planned->host = (const char *)host;
        planned->bytes = bytes;
        return;
    }
}

/* Beside a step an input has two buffers, and two in pinned memory. */
static size_t ft__cl_takes(const ft__context *c, const void *host, size_t bytes, bool fed)
{
    const ft__device *d = c->device;
    if (host && ft__copy_of(d, host)) return 0;
    return fed && d->overlaps ? 4 * bytes : bytes;
}
#endif /* FINETUNE_OPENCL */
