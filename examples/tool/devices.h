/* devices.h - lists the devices for --device; --check shows how well each operator runs there.
   Part of examples/finetune.c. */

enum { MOST_DEVICES = 32, CHECK_BATCH = 8, CHECK_CLASSES = 10, CHECK_WORDS = 12 };

static void print_devices_json(const ft_device_info *list, int count, long processors)
{
    int i;
    printf("{\"devices\": [{\"device\": \"cpu\", \"processors\": %ld}", processors);
    for (i = 0; i < count; ++i) {
        printf(", {\"device\": \"%s\", \"name\": ", list[i].device);
        print_json_text(list[i].name);
        printf(", \"platform\": ");
        print_json_text(list[i].platform);
        printf(", \"driver\": ");
        print_json_text(list[i].driver);
        printf(", \"memory\": %llu, \"compute_units\": %d, \"is_processor\": %s}",
               (unsigned long long)list[i].memory, list[i].compute_units,
               list[i].is_processor ? "true" : "false");
    }
    printf("]}\n");
}

/* The operators of sequences: a feature map [N, 64, 15, 15] as 225 steps -> [N, 64]. */
static ft_node check_sequence(ft_model *m, ft_node x)
{
    static const int steps[] = {64, 225}, flat[] = {8 * 225}, turned[] = {0, 2, 1};
    ft_conv1d_options conv;
    ft_layer_norm_options norm;
    ft_matmul_options matmul;
    ft_linear_options linear;
    ft_input_options rows;
    memset(&conv, 0, sizeof conv);
    memset(&norm, 0, sizeof norm);
    memset(&matmul, 0, sizeof matmul);
    memset(&linear, 0, sizeof linear);
    memset(&rows, 0, sizeof rows);
    conv.kernel = 3;
    conv.same = true;
    matmul.transpose_b = true;
    rows.type = FT_I32;
    rows.size[0] = 8;
    x = ft_conv1d(m, "conv1d", ft_reshape(m, "steps", x, 2, steps), 64, conv);
    x = ft_layer_norm(m, "layer_norm", ft_permute(m, "permute", x, 3, turned), norm);
    x = ft_matmul(m, "matmul", x, x, matmul);
    x = ft_gather(m, "gather", x, ft_input(m, "rows", rows), 1);
    return ft_linear(m, "rows_linear", ft_reshape(m, "rows_flat", x, 1, flat), 64, linear);
}

/* The operators of transformers: x [N, 12, 64] -> the same shape. */
static ft_node check_attention(ft_model *m, ft_node x)
{
    ft_attention_options attention;
    ft_rotary_options rotary;
    ft_add_positions_options positions;
    ft_rms_norm_options norm;
    memset(&attention, 0, sizeof attention);
    memset(&rotary, 0, sizeof rotary);
    memset(&positions, 0, sizeof positions);
    memset(&norm, 0, sizeof norm);
    attention.heads = rotary.heads = 4;
    attention.causal = true;
    x = ft_rms_norm(m, "rms_norm", ft_add_positions(m, "add_positions", x, CHECK_WORDS, positions), norm);
    return ft_attention(m, "attention", ft_rotary(m, "rotary", x, rotary), x, x, attention);
}

/* The operators of text: 12 words -> [N, 64]. */
static ft_node check_text(ft_model *m)
{
    ft_input_options tokens;
    ft_embedding_options embedding;
    ft_recurrent_options recurrent;
    ft_step_pool_options pool;
    ft_node x, all = {0};
    memset(&tokens, 0, sizeof tokens);
    memset(&embedding, 0, sizeof embedding);
    memset(&recurrent, 0, sizeof recurrent);
    memset(&pool, 0, sizeof pool);
    tokens.type = FT_I32;
    tokens.size[0] = CHECK_WORDS;
    pool.kind = FT_POOL_MEAN;
    x = ft_embedding(m, "embedding", ft_input(m, "tokens", tokens), 1000, 64, embedding);
    x = check_attention(m, x);
    x = ft_gru(m, "gru", ft_lstm(m, "lstm", x, 64, recurrent), 64, recurrent);
    return ft_step_pool(m, "step_pool", ft_rnn(m, "rnn", x, 64, recurrent), all, pool);
}

/* Functions of one and two nodes, and reductions: x [N, 64] -> [N, 64]. */
static ft_node check_arithmetic(ft_model *m, ft_node x)
{
    static const char *const unaries[] = {"abs", "sqrt", "exp", "neg", "erf", "affine", "log",
                                          "clamp", "pow", "detach"};
    static const char *const binaries[] = {"sub", "div", "maximum", "minimum", "equal",
                                           "not_equal", "less", "less_equal", "greater",
                                           "greater_equal"};
    static const char *const reductions[] = {"mean", "sum", "amax"};
    ft_unary_options plain, o;
    ft_reduce_options features;
    ft_node y = x, last = x;
    size_t k;
    memset(&plain, 0, sizeof plain);
    memset(&features, 0, sizeof features);
    features.axes[0] = -1;
    features.count = 1;
    features.keep = true;
    for (k = 0; k < sizeof unaries / sizeof unaries[0]; ++k) {
        o = plain;
        if (!strcmp(unaries[k], "pow")) o.exponent = 3;
        if (!strcmp(unaries[k], "affine")) o.shift = 2;
        if (!strcmp(unaries[k], "clamp")) o.max = 0.5f;
        y = ft_unary(m, unaries[k], unaries[k], y, o);
    }
    for (k = 0; k < sizeof binaries / sizeof binaries[0]; ++k) {
        last = ft_binary(m, binaries[k], binaries[k], x, y);
        y = ft_where(m, NULL, ft_binary(m, "less", NULL, x, y), last, x);
    }
    for (k = 0; k < sizeof reductions / sizeof reductions[0]; ++k)
        y = ft_add(m, NULL, y, ft_reduce(m, reductions[k], reductions[k], y, features));
    return y;
}

/* A network that contains every operator with kernels; returns its features, [N, 64]. */
static ft_node check_features(ft_model *m, ft_node x)
{
    ft_activation_options plain;
    ft_conv2d_options conv;
    ft_pool2d_options pool;
    ft_batch_norm_options norm;
    ft_group_norm_options groups;
    ft_dropout_options dropout;
    ft_pad_options pad;
    ft_slice_options slice;
    ft_node both[2];
    const char *kind;
    int k;
    memset(&plain, 0, sizeof plain);
    memset(&conv, 0, sizeof conv);
    memset(&pool, 0, sizeof pool);
    memset(&norm, 0, sizeof norm);
    memset(&groups, 0, sizeof groups);
    memset(&dropout, 0, sizeof dropout);
    memset(&pad, 0, sizeof pad);
    memset(&slice, 0, sizeof slice);
    conv.kernel[0] = pool.kernel[0] = 3;
    conv.same = true;
    pool.stride[0] = 2;
    dropout.probability = 0.1f;
    x = ft_conv2d(m, "conv", x, 64, conv);
    x = ft_group_norm(m, "group_norm", ft_batch_norm(m, "norm", x, norm), groups);
    x = ft_activation(m, "relu", "fused", x, plain);
    for (k = 0; (kind = ft_activation_kind(k)) != NULL; ++k) /* softmax is with the losses */
        if (!strstr(kind, "softmax")) x = ft_activation(m, kind, kind, x, plain);
    conv.kernel[0] = 1;
    both[0] = ft_conv2d(m, "pointwise", x, 64, conv);
    conv.kernel[0] = 3;
    conv.groups = 64;
    both[1] = ft_conv2d(m, "depthwise", x, 64, conv);
    x = ft_mul(m, "mul", ft_add(m, "add", both[0], both[1]), x);
    both[1] = x;
    x = ft_dropout(m, "dropout", ft_concat(m, "concat", 2, both, 1), dropout);
    pad.before[1] = pad.after[1] = 1;
    slice.stop[1] = 64;
    x = ft_slice(m, "slice", ft_pad(m, "pad", x, pad), slice);
    both[0] = ft_max_pool2d(m, "max_pool", x, pool);
    both[1] = ft_avg_pool2d(m, "avg_pool", x, pool);
    x = ft_add(m, "pools", both[0], both[1]);
    both[0] = ft_add(m, "sequences", check_sequence(m, x), check_text(m));
    x = ft_add(m, "global", ft_global_avg_pool(m, "global_avg", x),
               ft_global_max_pool(m, "global_max", x));
    x = ft_flatten(m, "flatten", x);
    ft_keep(m, x); /* else it is a view, and copies nothing */
    x = check_arithmetic(m, x);
    return ft_add(m, "features", x, both[0]);
}

static void check_network(ft_model *m, int classes)
{
    ft_activation_options plain;
    ft_linear_options linear;
    ft_loss_options loss;
    ft_input_options picture, label, target;
    ft_node x, targets, losses[4];
    memset(&plain, 0, sizeof plain);
    memset(&linear, 0, sizeof linear);
    memset(&loss, 0, sizeof loss);
    memset(&picture, 0, sizeof picture);
    memset(&label, 0, sizeof label);
    memset(&target, 0, sizeof target);
    picture.size[0] = 16;
    picture.size[1] = picture.size[2] = 32;
    label.type = FT_I32;
    target.size[0] = classes;
    x = check_features(m, ft_input(m, "input", picture));
    x = ft_linear(m, "linear", x, classes, linear);
    x = ft_reshape(m, "reshape", x, 1, &classes);
    targets = ft_input(m, "targets", target);
    losses[0] = ft_cross_entropy(m, "cross_entropy", x, ft_input(m, "labels", label), loss);
    losses[1] = ft_soft_cross_entropy(m, "soft_cross_entropy", x, targets);
    losses[2] = ft_binary_cross_entropy(m, "binary_cross_entropy", x, targets);
    losses[3] = ft_mse(m, "mse", ft_add(m, "softmaxes",
        ft_activation(m, "softmax", "softmax", x, plain),
        ft_activation(m, "log_softmax", "log_softmax", x, plain)), targets);
    ft_set_output(m, x);
    ft_set_loss(m, ft_add(m, "loss", ft_add(m, "loss01", losses[0], losses[1]),
                          ft_add(m, "loss23", losses[2], losses[3])));
}

enum { MOST_CHECKS = 256 };

static void print_check(const ft_device_check *c, bool json, bool first)
{
    if (json) {
        printf("%s{\"operator\": \"%s\", \"shape\": \"%s\", \"error\": %.3g, \"device_seconds\": "
               "%.3g, \"cpu_seconds\": %.3g, \"choice\": \"%s\"}", first ? "" : ", ", c->op,
               c->shape, (double)c->error, c->device_seconds, c->host_seconds, c->choice);
        return;
    }
    if (first) printf("  %-22s %-20s %11s %11s %9s  %s\n", "operator", "shape", "worst error",
                      "device, ms", "cpu, ms", "choice");
    if (!*c->shape) printf("  %-22s %-20s %11s %11s %9s  %s\n", c->op, "no kernel", "", "", "",
                           c->choice);
    else printf("  %-22s %-20s %11.2g %11.3f %9.3f  %s\n", c->op, c->shape, (double)c->error,
                1e3 * c->device_seconds, 1e3 * c->host_seconds, c->choice);
}

/* Runs one training step on a device and prints the results of the checks before it. */
static int check_device(const options *o, const char *device)
{
    static float pictures[CHECK_BATCH * 16 * 32 * 32], targets[CHECK_BATCH * CHECK_CLASSES];
    static const int labels[CHECK_BATCH] = {0, 1, 2, 3, 4, 5, 6, 7};
    static int rows[CHECK_BATCH * 8], tokens[CHECK_BATCH * CHECK_WORDS];
    static ft_device_check checks[MOST_CHECKS];
    ft_optimizer_options optimizer;
    options named = *o;
    ft_model *m;
    int count, i;
    memset(&optimizer, 0, sizeof optimizer);
    for (i = 0; i < CHECK_BATCH * CHECK_CLASSES; ++i) targets[i] = 0.1f;
    for (i = 0; i < CHECK_BATCH * 16 * 32 * 32; ++i) pictures[i] = (float)(i % 101) / 50 - 1;
    for (i = 0; i < CHECK_BATCH * 8; ++i) rows[i] = 3 * i;
    for (i = 0; i < CHECK_BATCH * CHECK_WORDS; ++i) tokens[i] = 7 * i;
    named.device = device;
    if (!(m = create(&named))) return FAILED;
    check_network(m, CHECK_CLASSES);
    ft_set_optimizer(m, optimizer);
    ft_feed(m, ft_find(m, "input"), pictures, CHECK_BATCH);
    ft_feed(m, ft_find(m, "targets"), targets, CHECK_BATCH);
    ft_feed(m, ft_find(m, "labels"), labels, CHECK_BATCH);
    ft_feed(m, ft_find(m, "rows"), rows, CHECK_BATCH);
    ft_feed(m, ft_find(m, "tokens"), tokens, CHECK_BATCH);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 0);
    if (ft_error(m)) return report(m);
    count = ft_device_checks(m, checks, MOST_CHECKS);
    if (o->json) printf("{\"device\": \"%s\", \"checks\": [", device);
    for (i = 0; i < count && i < MOST_CHECKS; ++i) print_check(&checks[i], o->json, i == 0);
    if (o->json) printf("]}\n");
    ft_destroy(m);
    return DONE;
}

static int devices(const options *o)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    ft_device_info list[MOST_DEVICES];
    options plain = *o;
    ft_model *m;
    int count, i, status = DONE;
    bool asks = opencl_survives(o);
    if (o->check) plain.device = NULL;
    if (!(m = create(&plain))) return FAILED;
    if (!o->json) printf("cpu: %ld processors\n", processors);
    fflush(stdout); /* before the log line that says why there are no others */
    count = asks ? ft_devices(m, list, MOST_DEVICES) : 0;
    if (count > MOST_DEVICES) count = MOST_DEVICES;
    if (o->json && (!o->check || count == 0)) print_devices_json(list, count, processors);
    for (i = 0; i < count; ++i) {
        bool wanted = o->check && (!o->device || !strcmp(o->device, list[i].device));
        if (!o->json)
            printf("%s: %s (%s, driver %s), %.1f GB, %d compute units%s\n", list[i].device,
                   list[i].name, list[i].platform, list[i].driver, (double)list[i].memory / 1e9,
                   list[i].compute_units, list[i].is_processor ? ", the processor itself" : "");
        fflush(stdout);
        if (wanted && check_device(o, list[i].device) != DONE) status = FAILED;
    }
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return status;
}
