/* data.h - opens models and data.
   Part of examples/finetune.c. */

static double clock_of_operators(void *user)
{
    (void)user;
    return seconds_now();
}

/* Can OpenCL list its devices at all? This is tried in a child process, since some drivers end
   their process (PoCL does if there is no /sys). It is tried once, before there are threads, since
   a process with threads cannot be forked safely. */
static bool opencl_survives(const options *o)
{
    static int answer = -1;
    int status = 0;
    pid_t child;
    if (answer >= 0) return answer;
    child = fork();
    if (child == 0) {
        ft_device_info first;
        ft_desc desc;
        int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1); /* the parent's message is better than the driver's */
        dup2(nowhere, 2);
        memset(&desc, 0, sizeof desc);
        desc.threads = 1;
        desc.opencl_library = o->opencl_library;
        ft_devices(ft_create(desc), &first, 1);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    answer = child < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!answer) fprintf(stderr, "finetune: the OpenCL driver crashes when it lists its devices: the CPU"
                         " is used\n");
    return answer;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Whether a path is of a file of Keras, which needs libhdf5. */
static bool is_of_keras(const char *path)
{
    return path && (ends_with(path, ".keras") || ends_with(path, ".h5") || ends_with(path, ".hdf5"));
}

static ft_model *create(const options *o)
{
    ft_desc desc;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    desc.seed = o->seed;
    desc.threads = o->threads;
    desc.simd = o->simd;
    desc.memory_budget = o->memory_budget;
    if (o->device && strcmp(o->device, "cpu") != 0 && opencl_survives(o)) desc.device = o->device;
    desc.cache = cache_folder(o, desc.device || !strcmp(o->verb, "train") || !strcmp(o->verb, "sweep"));
    desc.opencl_library = o->opencl_library;
    desc.precision = o->precision;
    if (is_of_keras(o->model) || is_of_keras(o->architecture) || is_of_keras(o->teacher) || is_of_keras(o->out))
        desc.hdf5 = hdf5_of_system();
    desc.log = print_log;
    desc.log_user = (void *)(uintptr_t)o;
    /* On a device the fastest of the correct kernels is chosen, so kernels are timed. */
    if (o->times || o->check || o->report || desc.device || !strcmp(o->verb, "sweep")) desc.clock = clock_of_operators;
    m = ft_create(desc);
    if (!m) complain("out of memory");
    return m;
}

static bool is_folder(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* Reads "3,48,192" into the sizes of a sample; false: it is no such list. */
static bool read_sample(const char *text, int *sizes)
{
    int count = 0;
    char *end;
    for (; text && *text; text = *end ? end + 1 : end) {
        long size = strtol(text, &end, 10);
        if (end == text || (*end && *end != ',') || size < 1 || size > 1 << 24
            || count == FINETUNE_MAX_RANK - 1) return false;
        sizes[count++] = (int)size;
    }
    return !text || count > 0;
}

static ft_model *open_model(const options *o)
{
    ft_load_options load;
    ft_merge_options merge;
    ft_model *m = create(o);
    memset(&load, 0, sizeof load);
    if (!m) return NULL;
    load.architecture = o->architecture;
    load.network.pooling = pooling_kind(o);
    load.network.normalize = o->normalize;
    load.network.image_size = o->image_size;
    load.network.heads = o->heads;
    load.no_new_head = !strcmp(o->verb, "embed") || wanted_task(o) == FT_TASK_EMBEDDINGS;
    load.weights.rename = o->rename;
    load.weights.state_dict = o->state_dict;
    load.weights.allow_missing = o->allow_missing;
    load.weights.allow_unexpected = o->allow_unexpected;
    load.weights.keep_types = load.weights.map = keeps_types(o);
    if (!read_sample(o->sample, load.weights.sample)) {
        complain("--sample %s: sizes such as 3,48,192 are expected", o->sample);
        ft_destroy(m);
        return NULL;
    }
    ft_load(m, o->model, load);
    if (o->image_size && !ft_error(m) && ft_get_preprocessing(m).width != o->image_size) {
        complain("--image-size %d: this network has pictures of %d pixels", o->image_size,
                 ft_get_preprocessing(m).width);
        ft_destroy(m);
        return NULL;
    }
    if (o->adapter) ft_load_adapter(m, o->adapter);
    memset(&merge, 0, sizeof merge);
    if (o->merge && !ft_error(m) && ft_merge(m, merge) == 0 && !ft_error(m))
        fprintf(stderr, "--merge: there are no adapters\n");
    if (frozen_type(o) != FT_F32 && frozen_type(o) != FT_OTHER && strcmp(o->verb, "train") != 0
        && strcmp(o->verb, "sweep") != 0) {
        ft_freeze(m, "*");
        ft_set_type(m, "*", frozen_type(o));
    }
    return m;
}

static void save_adapter(ft_model *m, const options *o)
{
    ft_save_adapter_options how;
    memset(&how, 0, sizeof how);
    how.transformers = o->transformers;
    if (o->save_adapter) ft_save_adapter(m, o->save_adapter, how);
}

/* Makes the folder of --save-adapter, if it is not there; prints why not. */
static bool can_write_adapter(const options *o)
{
    if (!o->save_adapter || mkdir(o->save_adapter, 0777) == 0 || is_folder(o->save_adapter)) return true;
    complain("--save-adapter %s: the folder cannot be made", o->save_adapter);
    return false;
}

/* Checked before hours of work: can the result be written there? Prints why not. The file
   that --model reads must not be replaced. */
static bool can_write(const options *o)
{
    const char *out = o->out, *model = o->model, *slash = strrchr(out, '/');
    bool one_array = ends_with(out, ".npy") && !strcmp(o->verb, "convert");
    char folder[4096];
    struct stat to, from;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - out) + 1 : 2, slash ? out : "./");
    if (!*out || is_folder(out))
        complain("--out must be the name of a file, not \"%s\"", out);
    else if (ft_other_format(out) && !one_array)
        complain("--out %s: this is the name of a %s file, which cannot be written: name it"
                 " .safetensors", out, ft_other_format(out));
    else if (ends_with(out, ".onnx") && strcmp(o->verb, "convert") != 0)
        complain("--out %s: %s writes .safetensors; then convert writes .onnx", out, o->verb);
    else if (access(folder, W_OK) != 0)
        complain("--out %s: cannot write a file in %s", out, folder);
    else if (model && stat(out, &to) == 0 && stat(model, &from) == 0 && to.st_ino == from.st_ino
             && to.st_dev == from.st_dev)
        complain("--out %s is the file that --model reads: choose another name", out);
    else return true;
    return false;
}

static bool can_read(const char *path)
{
    if (access(path, R_OK) == 0) return true;
    complain("%s: file or folder not found, or not readable", path);
    return false;
}

/* Checked before hours of work, for --val. Unless it is text, it must have a folder for each class;
   if `data` is a folder too, each must also exist there. Prints what is wrong. */
static bool same_folders(const char *data, const char *path, bool text)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    char name[4096];
    bool compare = is_folder(data), found = false, same = true;
    while (folder && same && (entry = readdir(folder))) {
        if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "__MACOSX")) continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (!is_folder(name)) continue;
        found = true;
        snprintf(name, sizeof name, "%s/%s", data, entry->d_name);
        same = !compare || access(name, F_OK) == 0;
        if (!same) complain("%s/%s: %s has no class of this name", path, shown(entry->d_name), data);
    }
    if (folder) closedir(folder);
    if (!found && !text)
        complain("--val %s: it must be a text, or a folder that has one folder of"
                 " pictures per class", path);
    return same && (found || text);
}

/* A model without class names is scored on as many classes, in the order of their names. */
static bool fits_unnamed(const ft_model *m, const ft_data *data, const char *path)
{
    if (!data || ft_class_name(m, 0) || ft_data_classes(data) == ft_class_count(m)) return true;
    complain("%s: has %d classes, but the model has %d, without names (--labels FILE names them)",
             path, ft_data_classes(data), ft_class_count(m));
    return false;
}

static bool is_arrays(const char *path)
{
    return ends_with(path, ".npz") || ends_with(path, ".npy");
}

/* Arrays of a file of NumPy's. --arrays names that of the samples and, after a comma, that of the labels. */
static ft_data *open_arrays(ft_model *m, const options *o, const char *path, bool evaluation)
{
    ft_array_file_options how;
    const char *comma = o->arrays ? strchr(o->arrays, ',') : NULL;
    char samples[256];
    memset(&how, 0, sizeof how);
    if (o->arrays) {
        snprintf(samples, sizeof samples, "%.*s", (int)(comma ? comma - o->arrays : 255), o->arrays);
        how.samples = samples;
    }
    if (comma) how.labels = comma + 1;
    how.evaluation = evaluation;
    if (evaluation) how.classes = ft_class_count(m);
    if (o->layout) how.layout = !strcmp(o->layout, "nchw") ? FT_LAYOUT_NCHW : FT_LAYOUT_NHWC;
    return ft_array_file(m, path, how);
}

/* Pictures: a folder of them, or arrays. */
static ft_data *open_folder(ft_model *m, const options *o, const char *path, bool evaluation)
{
    ft_image_folder_options folder;
    if (is_arrays(path)) return open_arrays(m, o, path, evaluation);
    memset(&folder, 0, sizeof folder);
    folder.match_classes = evaluation && ft_class_name(m, 0);
    if (!evaluation) folder.per_class = o->per_class;
    if (!evaluation && o->groups) {
        folder.no_groups = !strcmp(o->groups, "none");
        folder.group_by_name = !strcmp(o->groups, "name");
    }
    return ft_image_folder(m, path, folder);
}
