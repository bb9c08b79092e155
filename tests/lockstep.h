/* A training step on a device, each of whose operators is compared with the processor's on the same
   numbers: those that the device has at that moment. So no rounding is amplified, by a batch norm
   over few numbers or by a relu whose input rounding moves to the other side of its corner, and a
   difference is a fault of that operator. Include after internals.h and check.h. */

enum { LOCKSTEP_STEPS = 160, LOCKSTEP_BLOCKS = 40 };

typedef struct host_call {  /* an operator's call with memory of its own */
    ft__call call;
    ft__tensor input[12];
    void *blocks[LOCKSTEP_BLOCKS];
    int block_count;
} host_call;

static void *host_memory(host_call *h, size_t bytes)
{
    void *block = calloc(bytes + 16, 1);
    CHECK(block && h->block_count < LOCKSTEP_BLOCKS, "no memory for an operator's copy");
    h->blocks[h->block_count++] = block;
    return block;
}

static void host_free(host_call *h)
{
    while (h->block_count > 0) free(h->blocks[--h->block_count]);
}

/* What the device has of this memory. */
static void from_device(ft__context *c, float *to, const float *from, size_t count)
{
    ft__to_host(c, from, count * sizeof *from);
    memcpy(to, from, count * sizeof *from);
}

/* Numbers within 1e-4 of the largest one, which counts as at least `least`. */
static void compare_numbers(const ft__call *call, const char *what, const float *want,
                            const float *got, size_t count, float least)
{
    float largest = least;
    double apart = 0;
    size_t k;
    ft__to_host(call->context, got, count * sizeof *got);
    for (k = 0; k < count; ++k) {
        if (fabsf(want[k]) > largest) largest = fabsf(want[k]);
        apart = worse(apart, (double)fabsf(want[k] - got[k]));
    }
    CHECK(apart <= (double)(1e-4f * largest), "%s (%s): %s is %g apart of %g", ft__rows[call->node->op]->name,
          call->node->name, what, apart, (double)largest);
}

/* Copies the inputs of a call that has not run yet. */
static void host_begin(host_call *h, const ft__call *call)
{
    ft__costs costs = {0, 0, 0, 0, 0};
    int i;
    memset(h, 0, sizeof *h);
    h->call = *call;
    h->call.input = h->input;
    h->call.training = true; /* so that there is room for backward */
    for (i = 0; i < call->input_count; ++i) {
        size_t count = ft__count(&call->input[i]);
        h->input[i] = call->input[i];
        h->input[i].value = (float *)host_memory(h, count * sizeof(float));
        from_device(call->context, h->input[i].value, call->input[i].value, count);
    }
    h->call.output.value = (float *)host_memory(h, ft__count(&call->output) * sizeof(float));
    if (ft__rows[call->node->op]->costs) ft__rows[call->node->op]->costs(&h->call, &costs);
    h->call.saved = host_memory(h, costs.saved);
    h->call.workspace = (float *)host_memory(h, costs.workspace);
    h->call.prepared = NULL;
    h->call.training = call->training;
}

/* Compares the results of a call's forward, and any statistic or state that it changed; then takes
   the device's, so that backward begins with the same. */
static void host_forward(host_call *h, const ft__call *call)
{
    size_t count = ft__count(&call->output);
    int i;
    ft__rows[call->node->op]->forward(&h->call);
    compare_numbers(call, "the output", h->call.output.value, call->output.value, count, 1e-20f);
    from_device(call->context, h->call.output.value, call->output.value, count);
    for (i = 0; i < call->input_count; ++i) /* an input in the output's memory is gone */
        if (call->input[i].type == FT_F32 && call->input[i].value != call->output.value)
            compare_numbers(call, "an input", h->input[i].value, call->input[i].value,
                            ft__count(&call->input[i]), 1e-20f);
    if (call->node->op == FT__OP_batch_norm) /* mean and deviation: they tell where a relu is flat */
        from_device(call->context, (float *)h->call.saved, (const float *)call->saved,
              2 * ft__count(&call->input[1]));
}

/* Runs a step's backward on the device, as ft__run_backward does, and compares its gradients. */
static void host_backward(host_call *h, ft_model *m, ft__plan *plan, int at)
{
    const ft__step *step = &plan->steps[at];
    ft__call call = ft__make_call(m, plan, step, ft__extent_of(m, m->batch), true);
    bool runs = call.output.gradient && ft__rows[call.node->op]->backward;
    int i;
    ft__fresh_gradients(m, plan, at, m->batch, runs, runs && ft__runs_on_device(&call));
    if (!runs) return;
    h->call.output.gradient =
        (float *)host_memory(h, ft__count(&call.output) * sizeof(float));
    from_device(call.context, h->call.output.gradient, call.output.gradient, ft__count(&call.output));
    for (i = 0; i < call.input_count; ++i) {
        size_t count = ft__count(&call.input[i]);
        h->input[i].fresh = false;
        if (!call.input[i].gradient) continue;
        h->input[i].gradient = (float *)host_memory(h, count * sizeof(float));
        if (!call.input[i].fresh)
            from_device(call.context, h->input[i].gradient, call.input[i].gradient, count);
    }
    if (step->activation && !ft__masks(m, step)) {
        ft__activation_back(&h->call);
        ft__run_activation_back(&call);
    }
    ft__rows[call.node->op]->backward(&h->call);
    ft__run_operator(&call, true);
    for (i = 0; i < call.input_count; ++i)
        if (call.input[i].gradient)
            compare_numbers(&call, "a gradient", h->input[i].gradient, call.input[i].gradient,
                            ft__count(&call.input[i]), 1e-20f);
}

/* ft_forward(m, true) and ft_backward(m) on a device; returns the loss. */
static float step_in_lockstep(ft_model *m)
{
    static host_call calls[LOCKSTEP_STEPS];
    ft__plan *plan = ft__begin(m, m->batch, true);
    float loss;
    int i;
    if (!plan || plan->step_count > LOCKSTEP_STEPS) {
        CHECK(false, "no plan, or one of too many steps: %s", ft_error_text(m));
        return 0;
    }
    m->step += 1;
    m->last_run = plan;
    for (i = 0; i < plan->step_count; ++i) {
        ft__call call = ft__make_call(m, plan, &plan->steps[i], ft__extent_of(m, m->batch), false);
        bool folded = plan->steps[i].weight != NULL; /* its weights are made by the run */
        if (!folded) host_begin(&calls[i], &call);
        ft__run_forward(m, plan, i, i + 1, m->batch, 0);
        if (folded) host_begin(&calls[i], &call);
        host_forward(&calls[i], &call);
    }
    loss = ft__read_loss(m, plan);
    m->gradients_wait = m->backward_done = true;
    ft__set_numbers(&m->context, plan->gradients[m->loss.id - 1], 1, 1.0f);
    for (i = plan->step_count - 1; i >= plan->first_trained; --i)
        host_backward(&calls[i], m, plan, i);
    for (i = 0; i < plan->step_count; ++i) host_free(&calls[i]);
    return loss;
}
