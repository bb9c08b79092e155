#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "kernels/bf16.h"
#include "devices/device.h"
#include "devices/opencl.h"

/* =============================================================================================
   [SECTION] devices/opening: Devices: the list of them, and which one a model has
   ============================================================================================= */
static const ft__backend *const ft__backends[] = {
    &ft__processor,
#ifdef FINETUNE_OPENCL
    &ft__opencl,
#endif
};
static const size_t ft__backend_count = sizeof ft__backends / sizeof ft__backends[0];
static const char ft__no_backend[] = "this build is without OpenCL (FINETUNE_OPENCL)";

/* Opens the device that ft_desc.device names. If there is no GPU or it does not work, "auto" stays
   on the processor, with a line in the log; any other name is then an error. */
static void ft__device_open(ft__context *c)
{
    const char *wish = c->desc.device;
    ft_status status = FT_UNSUPPORTED;
    char why[1100];
    size_t i;
    c->backend = &ft__processor;
    if (!wish || strcmp(wish, "cpu") == 0 || !ft__ok(c)) return;
    snprintf(why, sizeof why, "%s", ft__no_backend);
    for (i = 0; i < ft__backend_count; ++i) {
        if (!ft__backends[i]->open) continue;
        status = ft__backends[i]->open(c, wish, why, sizeof why);
        if (status == FT_OK) c->backend = ft__backends[i];
        if (status == FT_OK || !ft__ok(c)) return;
    }
    if (strcmp(wish, "auto") == 0) ft__log(c, "device auto: the CPU is used: %s", why);
    else ft__fail(c, status, "device %s: %s", wish, why);
}

/* Fills `devices` with up to `most` of the machine's devices; returns how many there are. */
static int ft__device_list(const ft__context *c, ft_device_info *devices, int most)
{
    char why[300];
    int count = 0;
    size_t i;
    snprintf(why, sizeof why, "%s", ft__no_backend);
    for (i = 0; i < ft__backend_count; ++i)
        if (ft__backends[i]->list)
            count += ft__backends[i]->list(c, devices + count, most - count, why, sizeof why);
    if (count == 0) ft__log(c, "%s", why);
    return count;
}

/* Logs one line if the requested precision is not available. */
static void ft__precision_say(ft__context *c)
{
    const char *wish = c->desc.precision ? c->desc.precision : "";
    bool on_processor = strcmp(wish, "bf16") == 0 && c->precision == FT__BF16 && !c->device;
    if (strcmp(wish, "bf16") != 0 && strcmp(wish, "tf32") != 0) return;
    if (ft__ok(c) && !ft__tensor_type(c) && !on_processor)
        ft__log(c, "precision %s needs an NVIDIA GPU of compute capability 8.0 or more, used"
                " through OpenCL: products on %s are float32", wish,
                c->device ? "this device" : "the CPU");
}
