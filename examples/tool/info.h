/* info.h - the verb info: layers, parameters, memory, time.
   Part of examples/finetune.c. */

enum { SHOWN_CLASSES = 12, MOST_MISSING = 4 };

/* What info prints of a model. Every parameter is counted once, even if several layers read it. */
typedef struct facts {
    unsigned long long parameters, frozen, buffers, multiply_adds;
    int tensors, frozen_tensors;
    unsigned long long bytes[FT_TYPE_COUNT]; /* of the parameters, by type */
    bool text;              /* multiply-adds per token; memory for `length` tokens: */
    int length;             /* set_shown_length */
    int batch;
    size_t predict, train;  /* bytes; train is 0 without a loss */
    ft_node input;
    const char *missing[MOST_MISSING + 1]; /* in the file; a NULL after the last */
} facts;

static void look_for_missing(const ft_model *m, facts *f)
{
    int count = 0;
    if (ft_class_count(m) > 0 && !ft_class_name(m, 0))
        f->missing[count++] = "class names (predictions are numbers; --labels FILE names them)";
    if (f->text && !ft_get_tokenizer(m)) f->missing[count++] = "a vocabulary (--vocabulary names one)";
    if (!f->text && ft_get_preprocessing(m).channels == 0)
        f->missing[count++] = "preprocessing (pictures cannot be read)";
    if (!ft_loss(m).id) f->missing[count++] = "a loss (it cannot be trained)";
}

/* Bytes of a parameter in memory: with int8 a scale for each row. */
static unsigned long long bytes_in(const ft_model *m, ft_node node)
{
    ft_type type = ft_node_type(m, node);
    unsigned long long numbers = numbers_in(ft_node_shape(m, node));
    if (type == FT_I8) return numbers + 4 * (unsigned long long)ft_node_shape(m, node).size[0];
    return (type == FT_F32 ? 4 : 2) * numbers;
}

static unsigned long long all_bytes(const facts *f)
{
    unsigned long long bytes = 0;
    int t;
    for (t = 0; t < FT_TYPE_COUNT; ++t) bytes += f->bytes[t];
    return bytes;
}

static facts facts_of(ft_model *m, int batch)
{
    facts f;
    ft_node node;
    memset(&f, 0, sizeof f);
    f.batch = batch;
    f.input = ft_find(m, "tokens");
    f.text = f.input.id != 0;
    if (!f.text) f.input = ft_find(m, "input");
    f.length = set_shown_length(m);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        unsigned long long numbers = numbers_in(ft_node_shape(m, node));
        f.multiply_adds += ft_node_multiply_adds(m, node);
        if (!strcmp(ft_node_operator(m, node), "buffer")) f.buffers += numbers;
        if (strcmp(ft_node_operator(m, node), "parameter") != 0) continue;
        f.parameters += numbers;
        f.tensors += 1;
        f.bytes[ft_node_type(m, node)] += bytes_in(m, node);
        if (!ft_node_frozen(m, node)) continue;
        f.frozen += numbers;
        f.frozen_tensors += 1;
    }
    f.predict = ft_plan(m, 1, false).total;
    if (ft_loss(m).id) f.train = ft_plan(m, batch, true).total;
    look_for_missing(m, &f);
    return f;
}

/* A number, or "" for 0. */
static const char *number_text(unsigned long long number, char text[24])
{
    text[0] = 0;
    if (number) snprintf(text, 24, "%llu", number);
    return text;
}

/* Prints one line of the table: a node that computes, with the parameters that it reads. */
static void print_layer(const ft_model *m, ft_node node)
{
    ft_node inputs[32];
    char shape[80], has[24], takes[24];
    unsigned long long parameters = 0, frozen = 0;
    int count = ft_node_inputs(m, node, inputs, 32), i;
    for (i = 0; i < count && i < 32; ++i) {
        if (strcmp(ft_node_operator(m, inputs[i]), "parameter") != 0) continue;
        parameters += numbers_in(ft_node_shape(m, inputs[i]));
        if (ft_node_frozen(m, inputs[i])) frozen += numbers_in(ft_node_shape(m, inputs[i]));
    }
    printf("%-28s %-16s %-18s %12s %14s %s\n", shown(ft_node_name(m, node)), ft_node_operator(m, node),
           shape_text(ft_node_shape(m, node), 0, shape), number_text(parameters, has),
           number_text(ft_node_multiply_adds(m, node), takes),
           !parameters ? "" : frozen == parameters ? "frozen" : frozen ? "partly frozen" : "");
}

static void print_layers(const ft_model *m)
{
    ft_node node;
    printf("%-28s %-16s %-18s %12s %14s\n", "layer", "operator", "output", "parameters",
           "multiply-adds");
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *kind = ft_node_operator(m, node);
        if (strcmp(kind, "input") != 0 && strcmp(kind, "parameter") != 0 && strcmp(kind, "buffer") != 0
            && strcmp(kind, "state") != 0 && strcmp(kind, "none") != 0) print_layer(m, node);
    }
    printf("(N: the samples of a batch%s)\n\n", ft_find(m, "tokens").id
           ? "; L: the tokens of its longest sample; multiply-adds: per token" : "");
}

static void print_output(const ft_model *m)
{
    char shape[80];
    int classes = ft_class_count(m), i;
    if (is_language_model(m))
        printf("  output      scores of the next token for each of %d: a language model\n",
               ft_node_shape(m, ft_output(m)).size[2]);
    else if (gives_number(m)) printf("  output      a number: a regression\n");
    else if (classes == 0)
        printf("  output      %s\n", shape_text(ft_node_shape(m, ft_output(m)), 1, shape));
    else {
        printf("  output      %d classes", classes);
        for (i = 0; ft_class_name(m, i) && i < SHOWN_CLASSES; ++i)
            printf("%s%s", i ? ", " : ": ", shown(ft_class_name(m, i)));
        printf("%s\n", ft_class_name(m, SHOWN_CLASSES) ? ", ..." : "");
    }
}

/* The types of the parameters in memory, if they are not all float32. */
static void print_types(const facts *f)
{
    const char *comma = "  types       ";
    int t;
    if (f->bytes[FT_F32] == all_bytes(f)) return;
    for (t = 0; t < FT_TYPE_COUNT; ++t) {
        if (!f->bytes[t]) continue;
        printf("%s%s %.1f MB", comma, t == FT_F32 ? "F32" : t == FT_F16 ? "F16" : t == FT_BF16 ? "BF16"
               : "I8", 1e-6 * (double)f->bytes[t]);
        comma = ", ";
    }
    printf("\n");
}

static void print_info(ft_model *m, const facts *f)
{
    static const char *const kinds[] = {"characters", "words", "WordPiece", "byte-level BPE",
                                        "scored BPE"};
    ft_tokenizer *tokenizer = ft_get_tokenizer(m);
    ft_preprocessing p = ft_get_preprocessing(m);
    char shape[80], text[24];
    int i;
    print_layers(m);
    printf("%s\n", *ft_architecture(m) ? shown(ft_architecture(m)) : "network");
    if (f->text) printf("  input       text");
    else printf("  input       %s", shape_text(ft_node_shape(m, f->input), 1, shape));
    if (!f->text && p.channels > 0) printf(" (channels x height x width of a picture)");
    if (f->text && tokenizer)
        printf(", %d pieces: %s", ft_tokenizer_count(tokenizer), kinds[ft_tokenizer_kind_of(tokenizer)]);
    printf("\n");
    print_output(m);
    printf("  parameters  %s (%llu) in %d tensors, %.1f MB; ", short_number(f->parameters, text),
           f->parameters, f->tensors, 1e-6 * (double)all_bytes(f));
    if (f->frozen) printf("%s (%llu) in %d of them are frozen\n", short_number(f->frozen, text),
                          f->frozen, f->frozen_tensors);
    else printf("none is frozen\n");
    print_types(f);
    if (f->buffers) printf("  statistics  %s numbers, of batch norms\n", short_number(f->buffers, text));
    printf("  work        %s multiply-adds per %s\n", short_number(f->multiply_adds, text),
           f->text ? "token" : "picture");
    printf("  memory      %.1f MB to predict one %s", 1e-6 * (double)f->predict,
           f->text ? "text" : "picture");
    if (f->text) printf(" of %d tokens", f->length);
    if (f->train) printf(", %.1f MB to train on %d at a time", 1e-6 * (double)f->train, f->batch);
    printf("\n");
    for (i = 0; f->missing[i]; ++i) printf("  missing     %s\n", f->missing[i]);
}

static void print_info_json(const ft_model *m, const facts *f)
{
    int i;
    printf("{\"architecture\": ");
    print_json_text(ft_architecture(m));
    printf(", \"classes\": %d, \"parameters\": %llu, \"tensors\": %d, \"frozen\": %llu, "
           "\"frozen_tensors\": %d, \"buffers\": %llu, \"parameter_bytes\": %llu, "
           "\"multiply_adds\": %llu, \"bytes_to_predict\": %zu, \"bytes_to_train\": %zu, "
           "\"batch_size\": %d", ft_class_count(m), f->parameters, f->tensors, f->frozen,
           f->frozen_tensors, f->buffers, all_bytes(f), f->multiply_adds, f->predict, f->train,
           f->batch);
    if (f->text) printf(", \"length\": %d", f->length);
    printf(", \"missing\": [");
    for (i = 0; f->missing[i]; ++i) {
        if (i) printf(", ");
        print_json_text(f->missing[i]);
    }
    printf("]}\n");
}

/* Times training steps on grey pictures: one warm-up step, then five that count. */
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
            printf("%-28s %-16s %12.3f %12.3f\n", shown(ft_node_name(m, node)),
                   ft_node_operator(m, node), 1e3 * (t.forward - before[node.id].forward) / STEPS,
                   1e3 * (t.backward - before[node.id].backward) / STEPS);
    }
    free(before);
    free(pictures);
    free(classes);
}

static int print_graph(ft_model *m)
{
    const char *text = ft_graph_text(m);
    if (!text) return report(m);
    printf("%s\n", text);
    ft_destroy(m);
    return DONE;
}

static int info(const options *o)
{
    int batch = o->batch_size > 0 ? o->batch_size : 32;
    options named = *o;
    ft_model *m;
    facts f;
    if (!named.model && o->file_count > 0) named.model = o->files[0];
    if (!named.model) return usage("info needs --model", "");
    if (o->graph && o->times) return usage("--graph and --times must not both be given", "");
    if (o->file_count > (o->model ? 0 : 1))
        return usage("info reads only one file; unexpected argument: ", o->files[o->file_count - 1]);
    if (o->tensors) return suits_tensors(o) ? list_tensors(NULL, &named) : USAGE;
    if (!(m = open_model(&named))) return FAILED;
    if (only_tensors(m, &named) && !o->graph && !o->times) return list_tensors(m, &named);
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    if (o->graph) return print_graph(m);
    f = facts_of(m, batch);
    if (ft_error(m)) return report(m);
    if (o->json) print_info_json(m, &f);
    else print_info(m, &f);
    if (o->times) print_times(m, batch);
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return DONE;
}
