#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/random.h"
#include "nodes/nodes.h"
#include "graph/forward_backward.h"
#include "data/sources.h"
#include "data/loader.h"
#include "training/norm_momenta.h"
#include "training/evaluate.h"

/* =============================================================================================
   [SECTION] training/recalibrate: New running statistics
   As torch.optim.swa_utils.update_bn: batch k counts 1/k, so that at the end the running mean and
   variance are the means over all batches. The samples are shuffled: a batch of one class would
   have too small a variance.
   ============================================================================================= */

static void ft__renew(ft_model *m, ft__pass *pass, int count, const float *own)
{
    const ft__batch *batch;
    int k = 0;
    ft__shuffle(pass->order, count, ft__key(m->context.desc.seed, 0, 0, FT__USE_ORDER));
    ft__loader_start(pass->loader, pass->order, NULL, count);
    while (ft__ok(&m->context) && (batch = ft__loader_next(pass->loader)) != NULL) {
        if (batch->count < 2) continue; /* no variance */
        ft__set_momenta(m, own, ++k);
        ft__feed_batch(m, pass->loader, batch);
        m->last_run = pass->plan;
        ft__run_forward(m, pass->plan, 0, pass->plan->step_count, batch->count, FT__ONLY_OUTPUT);
    }
    ft__set_momenta(m, own, 0);
}

int ft_recalibrate(ft_model *m, ft_data *data, ft_recalibrate_options options)
{
    ft__context *c = m ? &m->context : NULL;
    int count, norms;
    const char *glob = options.glob ? options.glob : "*";
    ft__pass pass;
    float *own;
    if (!FT__HAS(m, TRAINING) || !FT__HAS(m, DATA) || !ft__usable(m)
        || !ft__given(c, data, "ft_recalibrate: the data") || ft__ready(m, true) != FT_OK
        || ft__data_check_network(m, data, "ft_recalibrate") != FT_OK) return 0;
    if (options.batch_size < 0 || options.batch_size == 1) {
        ft__fail(c, FT_INVALID, "ft_recalibrate: batch_size is %d; it must be at least 2",
                 options.batch_size);
        return 0;
    }
    count = ft_data_count(data);
    own = (float *)ft__allocate(c, (size_t)m->node_count + 1, sizeof *own);
    if (!own) return 0;
    norms = ft__keep_momenta(m, glob, own);
    if (norms > 0) {
        pass = ft__pass_begin(m, data, options.batch_size, 0, true, true);
        if (pass.loader) ft__renew(m, &pass, count, own);
        ft__pass_end(&pass);
        m->weights_version += 1; /* what was folded with the old ones is made again */
    }
    ft__release(c, own);
    return ft__ok(c) ? norms : 0;
}
