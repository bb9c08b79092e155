/* tensors.h - files of tensors whose network is not known: info lists them, convert copies them.
   Part of examples/finetune.c. */

/* Whether a file is handled as tensors: because --tensors says so, or because it is not the weights of
   a network that is known by name, which `m` then says. */
static bool only_tensors(const ft_model *m, const options *o)
{
    return o->tensors || (ft_error(m) == FT_UNSUPPORTED && !o->architecture && !o->adapter && !is_folder(o->model));
}

/* Has every option an effect on tensors? Prints if not. */
static bool suits_tensors(const options *o)
{
    bool of_network = o->graph || o->times;
    int r;
    for (r = 0; r < OPTION_ROWS; ++r)
        if (o->given[r] && option_rows[r].needs & MODEL && strcmp(option_rows[r].name, "--state-dict") != 0)
            of_network = true;
    if (!of_network) return true;
    usage("--tensors has no effect with an option that is about a network", "");
    return false;
}

/* Opens the file in a new model, after the reason why `old`, which ends here, has no network; NULL after
   an error that was printed: the first one, if the file cannot be opened as tensors either. */
static ft_file *open_tensors(ft_model **m, ft_model *old, const options *o)
{
    ft_weights_options how;
    ft_file *file;
    memset(&how, 0, sizeof how);
    how.state_dict = o->state_dict;
    *m = create(o);
    file = *m ? ft_file_open(*m, o->model, how) : NULL;
    if (!file && *m) complain("%s", ft_error_text(old ? old : *m));
    else if (file && old && !o->quiet)
        fprintf(stderr, "%s; its tensors are taken as they are, without a network\n", ft_error_text(old));
    ft_destroy(old);
    return file;
}

static void print_tensor(const ft_tensor_info *t, bool json, bool first)
{
    char shape[80];
    int d;
    if (!json) {
        printf("%-48s %-8s %s\n", shown(t->name), t->type_name, shape_text(t->shape, 0, shape));
        return;
    }
    printf(first ? "{\"name\": " : ", {\"name\": ");
    print_json_text(t->name);
    printf(", \"type\": ");
    print_json_text(t->type_name);
    printf(", \"shape\": [");
    for (d = 0; d < t->shape.rank; ++d) printf(d ? ", %d" : "%d", t->shape.size[d]);
    printf("]}");
}

/* Prints what the file holds; `old` as in open_tensors. */
static int list_tensors(ft_model *old, const options *o)
{
    unsigned long long numbers = 0, bytes = 0;
    char text[24];
    ft_model *m;
    ft_file *file = open_tensors(&m, old, o);
    int count = ft_file_count(file), i;
    if (!file) return failed(m);
    if (o->json) printf("{\"tensors\": [");
    else printf("%-48s %-8s %s\n", "tensor", "type", "shape");
    for (i = 0; i < count; ++i) {
        ft_tensor_info t = ft_file_tensor(file, i);
        print_tensor(&t, o->json, i == 0);
        numbers += numbers_in(t.shape);
        bytes += t.bytes;
    }
    if (o->json) printf("], \"numbers\": %llu, \"bytes\": %llu}\n", numbers, bytes);
    else printf("\n%d tensors, %s numbers, %.1f MB\n", count, short_number(numbers, text), 1e-6 * (double)bytes);
    ft_file_close(file);
    ft_destroy(m);
    return DONE;
}

/* Writes the file's tensors in the format that the name of --out says. */
static int convert_tensors(ft_model *old, const options *o, ft_save_options save)
{
    ft_model *m;
    ft_file *file = open_tensors(&m, old, o);
    int count = ft_file_count(file);
    if (!file) return failed(m);
    save.widen = o->type && save.type == FT_F32;
    ft_file_save(file, o->out, save);
    ft_file_close(file);
    if (ft_error(m)) return report(m);
    if (o->json) {
        printf("{\"out\": ");
        print_json_text(o->out);
        printf(", \"tensors\": %d}\n", count);
    } else if (!o->quiet) printf("%s written: %d tensors\n", o->out, count);
    ft_destroy(m);
    return DONE;
}

/* The tensor that a name of the read file has in the written one, where a prefix may be gone; -1: none. */
static int written_tensor(const ft_file *to, const char *name)
{
    int found = ft_file_find(to, name);
    while (found < 0 && (name = strchr(name, '.')) != NULL) found = ft_file_find(to, ++name);
    return found;
}

/* Whether a name is that of a constant, which Keras' files have in the network's description. */
static bool is_constant(const ft_model *m, const char *name)
{
    ft_node node = ft_find(m, name);
    return node.id && !strcmp(ft_node_operator(m, node), "constant");
}

/* After a network was converted: says which tensors of the file that was read it has no place for, and
   which are of another type now, unless that was asked for. */
static void say_losses(const ft_model *network, const options *o)
{
    enum { NAMED = 4 };
    char names[400] = "";
    int lost = 0, changed = 0, i;
    bool wide = false; /* is any of a type that float32 cannot hold? */
    ft_weights_options how, plain;
    ft_model *m = is_folder(o->model) || o->rename || o->adapter ? NULL : create(o);
    ft_file *from, *to;
    memset(&how, 0, sizeof how);
    memset(&plain, 0, sizeof plain);
    how.state_dict = o->state_dict;
    how.map = plain.map = true; /* what the tensors are is enough: no need to read all of their numbers */
    from = m ? ft_file_open(m, o->model, how) : NULL;
    to = from ? ft_file_open(m, o->out, plain) : NULL;
    for (i = 0; to && i < ft_file_count(from); ++i) {
        ft_tensor_info t = ft_file_tensor(from, i), u;
        int found = written_tensor(to, t.name);
        size_t used = strlen(names);
        if (found < 0 && !is_constant(network, t.name) && lost++ < NAMED)
            snprintf(names + used, sizeof names - used, "%s%.80s", used ? ", " : "", shown(t.name));
        if (found < 0) continue;
        u = ft_file_tensor(to, found);
        if (u.type == t.type) continue;
        changed += 1;
        wide = wide || t.type == FT_F64 || t.type == FT_I32 || t.type == FT_I64 || t.type == FT_U32
            || t.type == FT_U64;
    }
    if (lost) fprintf(stderr, "%s: %d tensors have no place in the network and are not kept: %s%s\n", o->model, lost,
                      names, lost > NAMED ? ", ..." : "");
    if (changed && !o->type)
        fprintf(stderr, "%s: %d tensors have another type in %s, float32, %s (--type, or --tensors for all as they"
                " are)\n", o->model, changed, o->out, wide ? "to which their numbers are rounded"
                                                           : "which holds the same numbers");
    ft_file_close(to);
    ft_file_close(from);
    ft_destroy(m);
}
