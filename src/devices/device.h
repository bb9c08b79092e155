#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/json.h"
#include "nodes/nodes.h"
#include "operators/activations.h"
#include "operators/rows.h"
#include "optimizers/adam.h"
#include "optimizers/embedding_rows.h"

/* =============================================================================================
   [SECTION] devices/device: Devices: what the rest of the library asks of one
   The processor and OpenCL are two devices behind one list of functions, ft__backend; the rest of
   the library calls those below, and knows no device by name. A function that is NULL has nothing
   to do: the processor has none, since its memory is the host's, and the operators' own functions
   run on it. devices/opening lists the devices.
   ============================================================================================= */

/* A training step's report. kernels.cl's step_guard writes it. */
typedef struct ft__report { float loss, scale; int32_t wrong, counted, right; } ft__report;
enum { FT__LOSS_IS_WRONG = 1, FT__GRADIENTS_ARE_WRONG = 2 }; /* `wrong` */

typedef struct ft__scored { /* what a report also says of the run before it */
    const float *loss;      /* NULL: nothing, but whether the gradients are finite */
    const float *output, *labels; /* [rows, classes], and [rows] of int32; no rows: not scored */
    size_t rows, classes;
} ft__scored;

struct ft__backend {
    /* ---- Finding one ---- */
    /* Fills `devices` with up to `most` of the machine's; returns how many there are, or 0 with the
       reason in `why`. */
    int (*list)(const ft__context *c, ft_device_info *devices, int most, char *why, size_t size);
    /* Opens the one that `wish` names, as c->device; not FT_OK: c is as before, and the reason is
       in `why`. */
    ft_status (*open)(ft__context *c, const char *wish, char *why, size_t size);
    void (*close)(ft__context *c);
    const char *(*lost)(const ft__context *c); /* its name if a call failed since it was opened, so
                                                  that its memory cannot be trusted; else NULL */
    int (*tensor_type)(const ft__context *c);  /* the type to which its tensor cores round products;
                                                  0: they are not used */
    /* ---- Memory: the device has copies of the host's, and knows which is newer ---- */
    void (*to_host)(ft__context *c, const void *host, size_t bytes);
    void (*host_wrote)(ft__context *c, const void *host);
    void (*host_fed)(ft__context *c, const void *host, size_t bytes);
    void (*all_to_host)(ft__context *c, bool writes); /* all but what is in a plan's memory */
    void (*plan)(ft__context *c, const void *host, size_t bytes);
    void (*fill)(ft__context *c, float *host, size_t count, float value);
    /* The bytes that it will allocate for this host memory, of an input (`fed`) or a weight. */
    size_t (*takes)(const ft__context *c, const void *host, size_t bytes, bool fed);
    /* Into how many partial sums it cuts the gradient of a weight of `count` numbers, which is a
       sum over `rows`. */
    size_t (*slices)(size_t rows, size_t count);
    /* ---- Operators ---- */
    bool (*runs)(const ft__call *call);        /* the same for forward and backward */
    void (*run)(const ft__call *call, bool backward); /* only after runs() */
    void (*activation_back)(const ft__call *call);    /* so too */
    int (*checks)(const ft__context *c, ft_device_check *checks, int most);
    void (*check_all)(ft__context *c);         /* compares all operators, for `checks` */
    /* The choices that decide bits, for a checkpoint: members of a JSON object; and back, false if
       they are of a device of another name. */
    void (*add_choices)(const ft__context *c, ft__text *text);
    bool (*read_choices)(ft__context *c, ft__json *json, const char *name, const char *path);
    /* ---- A training step: all or none; without them the host updates the weights ---- */
    void (*guard)(ft_model *m, const ft__scored *scored); /* makes the report, ... */
    void (*update)(ft_model *m, const ft__update *u);  /* ... as which this happens or not */
    void (*report_reset)(ft__context *c);              /* nothing is wrong */
    /* Asks for the report of all that is queued so far, as number `turn`, 0 or 1; whether it comes
       while the next step runs. */
    bool (*report_ask)(ft__context *c, int turn);
    ft__report (*report_get)(ft__context *c, int turn); /* waits for it */
};

static const ft__backend ft__processor = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                          NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                          NULL, NULL, NULL, NULL, NULL, NULL, NULL};

/* What runs the model. Where there is one device the compiler knows it, and drops the rest. */
static const ft__backend *ft__backend_of(const ft__context *c)
{
#ifdef FINETUNE_OPENCL
    return c->backend;
#else
    (void)c;
    return &ft__processor;
#endif
}

static void ft__device_close(ft__context *c)
{
    if (ft__backend_of(c)->close) ft__backend_of(c)->close(c);
    c->backend = &ft__processor;
}

/* The name of a device of which a call failed: its weights may be those of half a step; or NULL. */
static const char *ft__device_lost(const ft__context *c)
{
    return ft__backend_of(c)->lost ? ft__backend_of(c)->lost(c) : NULL;
}

static int ft__tensor_type(const ft__context *c)
{
    return ft__backend_of(c)->tensor_type ? ft__backend_of(c)->tensor_type(c) : 0;
}

/* ---- Memory ---- */

/* Brings host memory up to date before it is read there. */
static void ft__to_host(ft__context *c, const void *host, size_t bytes)
{
    if (ft__backend_of(c)->to_host) ft__backend_of(c)->to_host(c, host, bytes);
}

/* Host memory was written: its copy on the device is outdated. */
static void ft__host_wrote(ft__context *c, const void *host)
{
    if (ft__backend_of(c)->host_wrote) ft__backend_of(c)->host_wrote(c, host);
}

/* The same if the device will read all of it soon: uploads it now, beside the running step. */
static void ft__host_fed(ft__context *c, const void *host, size_t bytes)
{
    if (ft__backend_of(c)->host_fed) ft__backend_of(c)->host_fed(c, host, bytes);
}

/* Before the host reads parameters, gradients or moments: downloads all of them; if it also
   `writes` them, the device uploads them again. */
static void ft__host_takes_weights(ft__context *c, bool writes)
{
    ft__catch_up_all((ft_model *)(void *)c); /* a model begins with its context */
    if (ft__backend_of(c)->all_to_host) ft__backend_of(c)->all_to_host(c, writes);
}

/* Gives the device one buffer for a plan's memory, with the same offsets as on the host. */
static void ft__device_plan(ft__context *c, const void *host, size_t bytes)
{
    if (ft__backend_of(c)->plan) ft__backend_of(c)->plan(c, host, bytes);
}

/* Sets numbers to one value, on the side where they will be read. */
static void ft__set_numbers(ft__context *c, float *to, size_t count, float value)
{
    size_t i;
    if (ft__backend_of(c)->fill) ft__backend_of(c)->fill(c, to, count, value);
    else for (i = 0; i < count; ++i) to[i] = value;
}

/* ---- Operators: on the device if it has kernels for the operator, else on the processor. Then its
   inputs are downloaded, and its results are uploaded when the device needs them ---- */

/* Brings all that an operator may read up to date on the host. */
static void ft__call_to_host(const ft__call *call, bool backward)
{
    ft__context *c = call->context;
    int i;
    for (i = 0; i < call->input_count; ++i) {
        const ft__tensor *t = &call->input[i];
        ft__to_host(c, t->value, ft__count(t) * sizeof(float));
        if (backward && t->gradient && !t->fresh)
            ft__to_host(c, t->gradient, ft__count(t) * sizeof(float));
    }
    if (!backward) return;
    ft__to_host(c, call->output.value, ft__count(&call->output) * sizeof(float));
    ft__to_host(c, call->output.gradient, ft__count(&call->output) * sizeof(float));
}

/* Marks what the processor wrote: the output or the gradients, and any input, as it may be a
   statistic or a state that forward changes. */
static void ft__call_wrote(const ft__call *call, bool backward)
{
    int i;
    if (!backward) ft__host_wrote(call->context, call->output.value);
    for (i = 0; i < call->input_count; ++i) {
        if (backward && call->input[i].gradient)
            ft__host_wrote(call->context, call->input[i].gradient);
        if (!backward) ft__host_wrote(call->context, call->input[i].value);
    }
}

static bool ft__runs_on_device(const ft__call *call)
{
    const ft__backend *b = ft__backend_of(call->context);
    return b->runs && !call->past && b->runs(call);
}

/* Runs an operator's forward or backward on the device or on the processor. */
static void ft__run_operator(const ft__call *call, bool backward)
{
    const ft__backend *b = ft__backend_of(call->context);
    const ft__row *row = ft__rows[call->node->op];
    if (ft__runs_on_device(call)) {
        b->run(call, backward);
        return;
    }
    if (b->to_host) ft__call_to_host(call, backward);
    (backward ? row->backward : row->forward)(call);
    if (b->host_wrote) ft__call_wrote(call, backward);
}

/* Turns the gradient of an operator's output into that of its fused activation's input. */
static void ft__run_activation_back(const ft__call *call)
{
    const ft__backend *b = ft__backend_of(call->context);
    if (ft__runs_on_device(call)) {
        b->activation_back(call);
        return;
    }
    if (b->to_host) ft__call_to_host(call, true);
    ft__activation_back(call);
    ft__host_wrote(call->context, call->output.gradient);
}

/* ---- Checkpoints ---- */

/* Adds the device's choices to the JSON object of a checkpoint. */
static void ft__device_add_choices(const ft__context *c, ft__text *text)
{
    if (ft__backend_of(c)->add_choices) ft__backend_of(c)->add_choices(c, text);
}

/* A resumed run uses the choices of its checkpoint, so that its bits stay the same. On another
   device they are made again, and the log says so. */
static void ft__device_read_choices(ft__context *c, ft__json *json, const char *path)
{
    const ft__backend *b = ft__backend_of(c);
    const char *name = ft__json_string(json, ft__json_member(json, 0, "device"));
    if (b->read_choices ? name && b->read_choices(c, json, name, path) : !name) return;
    ft__log(c, "%s was written on %s: the run continues, but its last bits will differ", path,
            name ? name : "the CPU");
}
