#pragma once
#include "platform/context.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"
#include "devices/opencl_dispatch.h"
#include "devices/opencl_samples.h"
#include "devices/opencl_update.h"

/* =============================================================================================
   [SECTION] devices/opencl: OpenCL: the device's functions
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
static const ft__backend ft__opencl = {
    ft__cl_describe, ft__cl_open_device, ft__cl_close, ft__cl_lost, ft__cl_tensor_type,
    ft__cl_to_host, ft__cl_host_wrote, ft__cl_host_fed, ft__cl_all_to_host, ft__cl_plan,
    ft__cl_fill, ft__cl_takes, ft__cl_slices,
    ft__cl_runs, ft__cl_run, ft__cl_activation_back, ft__cl_checks, ft__cl_check_all,
    ft__cl_add_choices, ft__cl_read_choices,
    ft__cl_guard, ft__cl_update, ft__cl_report_reset, ft__cl_report_ask, ft__cl_report_get};
#endif /* FINETUNE_OPENCL */
