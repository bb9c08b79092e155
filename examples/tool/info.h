/* info.h - the verb info: layers, parameters, memory, time.
   Part of examples/finetune.c. */

typedef struct totals { unsigned long long parameters, frozen, multiply_adds; } totals;

static unsigned long long numbers_in(ft_shape shape)
{
    unsigned long long count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d)
        if (shape.size[d] > 0) count *= (unsigned long long)shape.size[d];
    return count;
}

static void shape_text(ft_shape shape, char *text, size_t size)
{
    size_t at = 0;
    int d;
    text[0] = 0;
    for (d = 0; d < shape.rank && at < size; ++d) {
        if (shape.size[d] == FT_BATCH) at += (size_t)snprintf(text + at, size - at, "N");
        else if (shape.size[d] == FT_LENGTH) at += (size_t)snprintf(text + at, size - at, "xL");
        else at += (size_t)snprintf(text + at, size - at, "%s%d", d ? "x" : "", shape.size[d]);
    }
}

/* One line of the table: a node that computes, with the parameters that it reads. */
static void print_layer(const ft_model *m, ft_node node, totals *sum)
{
    ft_node inputs[8];
    char shape[64];
    unsigned long long parameters = 0, frozen = 0;
    unsigned long long multiply_adds = ft_node_multiply_adds(m, node);
    int count = ft_node_inputs(m, node, inputs, 8), i;
    for (i = 0; i < count && i < 8; ++i) {
        if (strcmp(ft_node_operator(m, inputs[i]), "parameter") != 0) continue;
        parameters += numbers_in(ft_node_shape(m, inputs[i]));
        if (ft_node_frozen(m, inputs[i])) frozen += numbers_in(ft_node_shape(m, inputs[i]));
    }
    shape_text(ft_node_shape(m, node), shape, sizeof shape);
    printf("%-28s %-16s %-18s %12llu %14llu %s\n", ft_node_name(m, node), ft_node_operator(m, node),
           shape, parameters, multiply_adds, !parameters ? "" : frozen == parameters ? "frozen"
           : frozen ? "partly frozen" : "");
    sum->parameters += parameters;
    sum->frozen += frozen;
    sum->multiply_adds += multiply_adds;
}

static void print_info(ft_model *m, int batch)
{
    ft_preprocessing p = ft_get_preprocessing(m);
    ft_plan_bytes run = ft_plan(m, 1, false), training = ft_plan(m, batch, true);
    totals sum = {0, 0, 0};
    ft_node node;
    int i;
    printf("%s: input ", *ft_architecture(m) ? ft_architecture(m) : "network");
    if (p.channels > 0) printf("%dx%dx%d", p.channels, p.height, p.width);
    else printf("text");
    printf(", %d classes", ft_class_count(m));
    for (i = 0; ft_class_name(m, i); ++i) printf("%s%s", i ? ", " : ": ", ft_class_name(m, i));
    printf("\n%-28s %-16s %-18s %12s %14s\n", "layer", "operator", "output", "parameters",
           "multiply-adds");
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *kind = ft_node_operator(m, node);
        if (!strcmp(kind, "input") || !strcmp(kind, "parameter") || !strcmp(kind, "buffer")
            || !strcmp(kind, "none")) continue;
        print_layer(m, node, &sum);
    }
    printf("%llu parameters (%llu frozen), %llu multiply-adds a picture\n", sum.parameters,
           sum.frozen, sum.multiply_adds);
    printf("memory: %.1f MB to predict one picture, %.1f MB to train on %d at a time\n",
           (double)run.total / 1e6, (double)training.total / 1e6, batch);
}

static void print_info_json(ft_model *m, int batch)
{
    ft_plan_bytes run = ft_plan(m, 1, false), training = ft_plan(m, batch, true);
    unsigned long long parameters = 0, frozen = 0, multiply_adds = 0;
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        multiply_adds += ft_node_multiply_adds(m, node);
        if (strcmp(ft_node_operator(m, node), "parameter") != 0) continue;
        parameters += numbers_in(ft_node_shape(m, node));
        if (ft_node_frozen(m, node)) frozen += numbers_in(ft_node_shape(m, node));
    }
    printf("{\"architecture\": ");
    print_json_text(ft_architecture(m));
    printf(", \"classes\": %d, \"parameters\": %llu, \"frozen\": %llu, \"multiply_adds\": %llu, "
           "\"bytes_to_predict\": %zu, \"bytes_to_train\": %zu, \"batch_size\": %d}\n",
           ft_class_count(m), parameters, frozen, multiply_adds, run.total, training.total, batch);
}

/* Steps of training on grey pictures: one to warm up, then five that count. */
static void print_times(ft_model *m, int batch)
{
    enum { STEPS = 5 };
    ft_node input = ft_find(m, "input"), labels = ft_find(m, "labels"), node;
    size_t count = (size_t)batch;
    ft_optimizer_options optimizer;
    float *pictures;
    int *classes, d, i;
    ft_time *before = (ft_time *)calloc((size_t)ft_node_count(m) + 1, sizeof *before);
    memset(&optimizer, 0, sizeof optimizer);
    for (d = 1; d < ft_node_shape(m, input).rank; ++d)
        count *= (size_t)ft_node_shape(m, input).size[d];
    pictures = (float *)calloc(count, sizeof *pictures);
    classes = (int *)calloc((size_t)batch, sizeof *classes);
    ft_set_optimizer(m, optimizer);
    for (i = 0; pictures && classes && before && i <= STEPS && !ft_error(m); ++i) {
        ft_feed(m, input, pictures, batch);
        ft_feed(m, labels, classes, batch);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 0);
        for (node.id = 1; i == 0 && node.id <= ft_node_count(m); ++node.id)
            before[node.id] = ft_node_time(m, node);
    }
    if (before) printf("%-28s %-16s %12s %12s   (ms, a batch of %d)\n", "layer", "operator",
                       "forward", "backward", batch);
    for (node.id = 1; before && !ft_error(m) && node.id <= ft_node_count(m); ++node.id) {
        ft_time t = ft_node_time(m, node);
        if (t.forward > 0)
            printf("%-28s %-16s %12.3f %12.3f\n", ft_node_name(m, node),
                   ft_node_operator(m, node), 1e3 * (t.forward - before[node.id].forward) / STEPS,
                   1e3 * (t.backward - before[node.id].backward) / STEPS);
    }
    free(before);
    free(pictures);
    free(classes);
}

static int info(const options *o)
{
    int batch = o->batch_size > 0 ? o->batch_size : 32;
    options named = *o;
    ft_model *m;
    if (!named.model && o->file_count > 0) named.model = o->files[0];
    if (!named.model) return usage("info needs --model", "");
    if (o->file_count > (o->model ? 0 : 1))
        return usage("info tells of one file, not also of ", o->files[o->file_count - 1]);
    if (!(m = open_model(&named))) return FAILED;
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    if (o->json) print_info_json(m, batch);
    else print_info(m, batch);
    if (o->times && !o->json) print_times(m, batch);
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return DONE;
}
