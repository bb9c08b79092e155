/* data.h - opens models and data.
   Part of examples/finetune.c. */

static double clock_of_operators(void *user)
{
    (void)user;
    return seconds_now();
}

static ft_model *create(const options *o)
{
    ft_desc desc;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    desc.seed = o->seed;
    desc.threads = o->threads;
    desc.simd = o->simd;
    desc.device = o->device;
    desc.cache = o->cache;
    if (o->cache) mkdir(o->cache, 0777); /* it may be there */
    desc.opencl_library = o->opencl_library;
    desc.precision = o->precision;
    desc.log = print_log;
    desc.log_user = (void *)(uintptr_t)o;
    if (o->times || o->check) desc.clock = clock_of_operators;
    m = ft_create(desc);
    if (!m) fprintf(stderr, "finetune: no memory\n");
    return m;
}

static ft_model *open_model(const options *o)
{
    ft_load_options load;
    ft_model *m = create(o);
    memset(&load, 0, sizeof load);
    if (!m) return NULL;
    load.architecture = o->architecture;
    load.weights.rename = o->rename;
    load.weights.allow_missing = o->allow_missing;
    load.weights.allow_unexpected = o->allow_unexpected;
    ft_load(m, o->model, load);
    return m;
}

static ft_data *open_folder(ft_model *m, const options *o, const char *path, bool evaluation)
{
    ft_image_folder_options folder;
    memset(&folder, 0, sizeof folder);
    folder.match_classes = evaluation;
    if (!evaluation) folder.per_class = o->per_class;
    return ft_image_folder(m, path, folder);
}
