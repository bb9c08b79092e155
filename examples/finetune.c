/* finetune - the command-line tool: fine-tune a pretrained network on a folder of pictures.

     finetune train --model resnet18.safetensors --data photos/ --out mine.safetensors
     finetune eval --model mine.safetensors --data more_photos/
     finetune predict --model mine.safetensors picture.jpg

   Everything is done by finetune.h; this file reads options, prints, and catches Ctrl-C. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- Options ---- */

typedef struct options {
    const char *verb, *model, *data, *val, *out, *architecture, *freeze, *simd, *device, *rename;
    const char *type, *cache, *opencl_library, *precision;
    int epochs, batch_size, threads, per_class, top, checkpoint_steps;
    double learning_rate;
    unsigned long long seed;
    bool json, resume, flip, no_shift, allow_missing, allow_unexpected, quiet, times;
    char **files;
    int file_count;
} options;

static const char usage_text[] =
    "finetune " FINETUNE_VERSION ": fine-tune pretrained networks\n"
    "\n"
    "  finetune train --model WEIGHTS --data FOLDER --out FILE [--val FOLDER]\n"
    "  finetune eval --model FILE --data FOLDER\n"
    "  finetune predict --model FILE IMAGE...\n"
    "  finetune info --model FILE [--times]\n"
    "  finetune convert --model WEIGHTS --out FILE [--type f32|f16|bf16]\n"
    "  finetune devices                  what --device may name\n"
    "\n"
    "WEIGHTS: .safetensors, or PyTorch's .pt or .pth. FOLDER: one folder of pictures per class.\n"
    "\n"
    "train:   --epochs N          of the last stage (default: chosen by the size of the data)\n"
    "         --batch-size N      --lr X\n"
    "         --per-class N       use only so many pictures of each class\n"
    "         --freeze GLOB       freeze exactly these (\"\" for nothing): no choice of stages\n"
    "         --flip              pictures may be mirrored   --no-shift  nor moved a little\n"
    "         --resume            go on from FILE.checkpoint if it is there\n"
    "         --checkpoint-steps N\n"
    "predict: --top N             classes to print (default 3)\n"
    "info:    --times             milliseconds of each operator in a training step of a batch\n"
    "all:     --arch NAME         when the weights' names do not tell the network\n"
    "         --rename A=B,...    leading parts of names in the weights file to replace\n"
    "         --allow-missing --allow-unexpected   weights that do not match\n"
    "         --seed N --threads N --simd none|sse2|avx2|avx512|neon\n"
    "         --device cpu|gpu|auto|opencl:PLATFORM:DEVICE   (auto: a GPU if one works)\n"
    "         --cache FOLDER      keep for the next run what frozen layers make of the pictures,\n"
    "                             and the kernels compiled for a device\n"
    "         --opencl-library FILE   the loader, if it is not where the system looks\n"
    "         --precision float32|bf16|bf16_emulated (of the products)\n"
    "         --json              end with one JSON object   --quiet\n";

static int usage(const char *problem, const char *what)
{
    fprintf(stderr, "finetune: %s%s\nfinetune: try finetune --help\n", problem, what);
    return USAGE;
}

/* One row per option: where its value goes, and how it is read. */
typedef struct option_row { const char *name; char kind; void *to; } option_row;

static bool read_number(const char *text, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return *text && !*end;
}

static bool store(const option_row *row, const char *value)
{
    double number = 0;
    if (row->kind == 's') *(const char **)row->to = value;
    if (row->kind == 's') return true;
    if (!read_number(value, &number)) return false;
    if (row->kind == 'f') *(double *)row->to = number;
    if (row->kind == 'f') return number > 0;
    if (number < 0 || number != (double)(unsigned long long)number) return false;
    if (row->kind == 'u') *(unsigned long long *)row->to = strtoull(value, NULL, 10);
    if (row->kind == 'u') return true;
    if (number > 1e9) return false;
    *(int *)row->to = (int)number;
    return true;
}

static int parse(int count, char **words, options *o)
{
    const option_row rows[] = {
        {"--model", 's', &o->model}, {"--data", 's', &o->data}, {"--val", 's', &o->val},
        {"--out", 's', &o->out}, {"--arch", 's', &o->architecture},
        {"--freeze", 's', &o->freeze}, {"--simd", 's', &o->simd}, {"--device", 's', &o->device},
        {"--precision", 's', &o->precision},
        {"--rename", 's', &o->rename}, {"--type", 's', &o->type},
        {"--cache", 's', &o->cache},
        {"--opencl-library", 's', &o->opencl_library},
        {"--epochs", 'i', &o->epochs}, {"--batch-size", 'i', &o->batch_size},
        {"--threads", 'i', &o->threads}, {"--per-class", 'i', &o->per_class},
        {"--top", 'i', &o->top}, {"--checkpoint-steps", 'i', &o->checkpoint_steps},
        {"--lr", 'f', &o->learning_rate}, {"--seed", 'u', &o->seed},
        {"--json", 'b', &o->json}, {"--resume", 'b', &o->resume}, {"--flip", 'b', &o->flip},
        {"--no-shift", 'b', &o->no_shift}, {"--quiet", 'b', &o->quiet},
        {"--times", 'b', &o->times},
        {"--allow-missing", 'b', &o->allow_missing},
        {"--allow-unexpected", 'b', &o->allow_unexpected}};
    size_t r, row_count = sizeof rows / sizeof rows[0];
    int i;
    for (i = 2; i < count; ++i) {
        char *equals = strchr(words[i], '=');
        const char *value = NULL;
        if (strncmp(words[i], "--", 2) != 0) {
            o->files[o->file_count++] = words[i];
            continue;
        }
        if (equals) {
            *equals = 0;
            value = equals + 1;
        }
        for (r = 0; r < row_count && strcmp(rows[r].name, words[i]) != 0; ++r) {}
        if (r == row_count) return usage("no such option: ", words[i]);
        if (rows[r].kind == 'b') {
            *(bool *)rows[r].to = true;
            continue;
        }
        if (!value) value = ++i < count ? words[i] : NULL;
        if (!value) return usage("a value is missing after ", rows[r].name);
        if (!store(&rows[r], value)) return usage("not a proper number after ", rows[r].name);
    }
    return DONE;
}

/* ---- Messages and progress ---- */

static void print_log(void *user, const char *line)
{
    const options *o = (const options *)user;
    if (!o->quiet) fprintf(stderr, "%s\n", line);
}

typedef struct progress_state {
    const options *o;
    bool terminal, line_open;
    double start, last;     /* of this stage; of the last line printed */
    char stage[32];
    long images;            /* in this stage */
} progress_state;

static void print_progress(progress_state *s, const ft_progress *p, double now)
{
    double rate = now > s->start ? (double)s->images / (now - s->start) : 0;
    double done = p->epoch + (double)p->step / (p->steps > 0 ? p->steps : 1);
    double left = done > 0 ? (now - s->start) / done * (p->epochs - done) : 0;
    fprintf(stderr, "%s%s: epoch %d/%d step %d/%d  loss %.4f  right %.1f %%",
            s->terminal ? "\r" : "", p->stage, p->epoch + 1, p->epochs, p->step, p->steps, p->loss, 100 * p->accuracy);
    if (p->held_back_accuracy >= 0)
        fprintf(stderr, "  held back %.1f %%", 100 * p->held_back_accuracy);
    fprintf(stderr, "  %.0f images/s  %.0f s left%s", rate, left, s->terminal ? "\033[K" : "\n");
    s->line_open = s->terminal;
    s->last = now;
}

static bool on_progress(void *user, const ft_progress *p)
{
    progress_state *s = (progress_state *)user;
    double now = seconds_now();
    bool due, last;
    if (strcmp(s->stage, p->stage) != 0) {
        if (s->line_open) fprintf(stderr, "\n");
        s->line_open = false;
        snprintf(s->stage, sizeof s->stage, "%s", p->stage);
        s->start = s->last = now;
        s->images = 0;
    }
    s->images += p->batch;
    /* A terminal gets a line that is written over, a file one line for an epoch at the most. */
    last = p->epoch_done && p->epoch + 1 == p->epochs;
    due = s->terminal ? now - s->last > 0.1 : p->epoch_done && now - s->last > 2;
    if (!s->o->quiet && (due || last)) print_progress(s, p, now);
    return !interrupted;
}

static int report(ft_model *m)
{
    fprintf(stderr, "finetune: %s\n", ft_error_text(m));
    ft_destroy(m);
    return FAILED;
}

/* A text as JSON: quotes, backslashes and control characters escaped. */
static void print_json_text(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    putchar('"');
    for (; *at; ++at) {
        if (*at == '"' || *at == '\\') printf("\\%c", *at);
        else if (*at < 0x20) printf("\\u%04x", *at);
        else putchar(*at);
    }
    putchar('"');
}

static void print_evaluation_json(const ft_evaluation *e)
{
    printf("\"correct\": %d, \"total\": %d, \"accuracy\": %.6f, \"interval\": [%.6f, %.6f], "
           "\"loss\": %.6f", e->correct, e->total, e->accuracy, e->low, e->high, e->loss);
}

static void print_evaluation(const ft_evaluation *e)
{
    printf("%d of %d right: %.2f %% (95 %% interval %.2f to %.2f), loss %.4f\n", e->correct,
           e->total, 100 * e->accuracy, 100 * e->low, 100 * e->high, e->loss);
}

/* ---- What every verb begins with ---- */

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
    desc.precision = o->precision;
    desc.device = o->device;
    desc.cache = o->cache;
    if (o->cache) mkdir(o->cache, 0777); /* it may be there */
    desc.opencl_library = o->opencl_library;
    desc.log = print_log;
    desc.log_user = (void *)(uintptr_t)o;
    if (o->times) desc.clock = clock_of_operators;
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

static ft_evaluation evaluate_folder(ft_model *m, const options *o, const char *path)
{
    ft_evaluate_options how;
    memset(&how, 0, sizeof how);
    how.batch_size = o->batch_size;
    return ft_evaluate(m, open_folder(m, o, path, true), how);
}

/* ---- train ---- */

static ft_finetune_options train_options(const options *o, const char *checkpoint,
                                         progress_state *progress)
{
    ft_finetune_options f;
    memset(&f, 0, sizeof f);
    f.epochs = o->epochs;
    f.batch_size = o->batch_size;
    f.learning_rate = (float)o->learning_rate;
    f.freeze = o->freeze;
    f.checkpoint = checkpoint;
    f.checkpoint_steps = o->checkpoint_steps;
    f.augmentation.flip = o->flip;
    f.augmentation.shift = o->no_shift ? -1.0f : 0.0f;
    f.progress = on_progress;
    f.progress_user = progress;
    return f;
}

static void print_trained(const options *o, const ft_finetune_result *r, const ft_evaluation *e,
                          double seconds)
{
    if (!o->json) {
        printf("%s\n", r->choice);
        if (o->val) print_evaluation(e);
        printf("%s written, %.1f s; %d frozen tensors, digest %016llx before and after\n", o->out,
               seconds, r->fit.before.tensors, (unsigned long long)r->fit.before.frozen);
        return;
    }
    printf("{");
    if (o->val) {
        print_evaluation_json(e);
        printf(", ");
    }
    printf("\"choice\": ");
    print_json_text(r->choice);
    printf(", \"frozen_digest\": \"%016llx\", \"seconds\": %.3f, \"out\": ",
           (unsigned long long)r->fit.after.frozen, seconds);
    print_json_text(o->out);
    printf("}\n");
}

static int train(const options *o)
{
    double start = seconds_now();
    progress_state progress;
    char checkpoint[4096];
    ft_finetune_result result;
    ft_evaluation evaluation;
    ft_save_options save;
    ft_data *data;
    ft_model *m;
    memset(&progress, 0, sizeof progress);
    memset(&evaluation, 0, sizeof evaluation);
    memset(&save, 0, sizeof save);
    if (!o->model || !o->data || !o->out) return usage("train needs --model, --data and --out", "");
    progress.o = o;
    progress.terminal = isatty(2) != 0;
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", o->out);
    if (!o->resume) remove(checkpoint); /* that of another run must not be taken for this one's */
    if (!(m = open_model(o))) return FAILED;
    data = open_folder(m, o, o->data, false);
    result = ft_finetune(m, data, train_options(o, checkpoint, &progress));
    if (progress.line_open) fprintf(stderr, "\n");
    if (ft_error(m)) return report(m);
    if (result.fit.stopped) {
        fprintf(stderr, "finetune: stopped; the same command with --resume goes on from %s\n",
                checkpoint);
        ft_destroy(m);
        return FAILED;
    }
    ft_save(m, o->out, save);
    if (o->val) evaluation = evaluate_folder(m, o, o->val);
    if (ft_error(m)) return report(m);
    remove(checkpoint);
    print_trained(o, &result, &evaluation, seconds_now() - start);
    ft_destroy(m);
    return DONE;
}

/* ---- eval ---- */

static int evaluate(const options *o)
{
    ft_evaluation e;
    ft_model *m;
    if (!o->model || !o->data) return usage("eval needs --model and --data", "");
    if (!(m = open_model(o))) return FAILED;
    e = evaluate_folder(m, o, o->data);
    if (ft_error(m)) return report(m);
    if (o->json) {
        printf("{");
        print_evaluation_json(&e);
        printf("}\n");
    } else print_evaluation(&e);
    ft_destroy(m);
    return DONE;
}

/* ---- predict ---- */

static void print_class(const ft_model *m, int index, bool json)
{
    const char *name = ft_class_name(m, index);
    if (json && name) print_json_text(name);
    else if (name) printf("%s", name);
    else printf(json ? "\"class %d\"" : "class %d", index);
}

static void print_prediction(const ft_model *m, const options *o, const char *file,
                             const ft_prediction *best, int count)
{
    int i;
    if (o->json) {
        printf("{\"file\": ");
        print_json_text(file);
        printf(", \"predictions\": [");
    } else printf("%s:", file);
    for (i = 0; i < count; ++i) {
        printf(o->json ? (i ? ", {\"class\": " : "{\"class\": ") : (i ? ", " : " "));
        print_class(m, best[i].class_index, o->json);
        if (o->json) printf(", \"index\": %d, \"probability\": %.6f}", best[i].class_index,
                            (double)best[i].probability);
        else printf(" %.1f %%", 100 * (double)best[i].probability);
    }
    printf(o->json ? "]}\n" : "\n");
}

static int predict(const options *o)
{
    ft_prediction best[64];
    int i, top = o->top > 0 ? o->top : 3, status = DONE;
    ft_model *m;
    if (!o->model || o->file_count == 0) return usage("predict needs --model and pictures", "");
    if (!(m = open_model(o))) return FAILED;
    if (ft_error(m)) return report(m);
    for (i = 0; i < o->file_count; ++i) {
        int count = ft_predict_file(m, o->files[i], best, top > 64 ? 64 : top);
        if (ft_error(m)) { /* one bad picture must not hide the others */
            fprintf(stderr, "finetune: %s\n", ft_error_text(m));
            ft_clear_error(m);
            status = FAILED;
        } else print_prediction(m, o, o->files[i], best, count);
    }
    ft_destroy(m);
    return status;
}

/* ---- info ---- */

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
    printf("%s: input %dx%dx%d, %d classes", *ft_architecture(m) ? ft_architecture(m) : "network",
           p.channels, p.height, p.width, ft_class_count(m));
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
    if (!named.model && o->file_count == 1) named.model = o->files[0];
    if (!named.model) return usage("info needs --model", "");
    if (!(m = open_model(&named))) return FAILED;
    if (ft_error(m)) return report(m);
    if (o->json) print_info_json(m, batch);
    else print_info(m, batch);
    if (o->times && !o->json) print_times(m, batch);
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return DONE;
}

/* ---- convert, devices ---- */

static int convert(const options *o)
{
    ft_save_options save;
    ft_model *m;
    memset(&save, 0, sizeof save);
    if (!o->model || !o->out) return usage("convert needs --model and --out", "");
    if (o->type && !strcmp(o->type, "f16")) save.type = FT_F16;
    else if (o->type && !strcmp(o->type, "bf16")) save.type = FT_BF16;
    else if (o->type && strcmp(o->type, "f32") != 0) return usage("--type is f32, f16 or bf16", "");
    if (!(m = open_model(o))) return FAILED;
    ft_save(m, o->out, save);
    if (ft_error(m)) return report(m);
    if (!o->quiet) printf("%s written\n", o->out);
    ft_destroy(m);
    return DONE;
}

enum { MOST_DEVICES = 32 };

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

static int devices(const options *o)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    ft_device_info list[MOST_DEVICES];
    ft_model *m = create(o);
    int count, i;
    if (!m) return FAILED;
    if (!o->json) printf("cpu: %ld processors\n", processors);
    fflush(stdout); /* before the line of the log that says why there are no others */
    count = ft_devices(m, list, MOST_DEVICES);
    if (count > MOST_DEVICES) count = MOST_DEVICES;
    if (o->json) print_devices_json(list, count, processors);
    for (i = 0; !o->json && i < count; ++i)
        printf("%s: %s (%s, driver %s), %.1f GB, %d compute units%s\n", list[i].device,
               list[i].name, list[i].platform, list[i].driver, (double)list[i].memory / 1e9,
               list[i].compute_units, list[i].is_processor ? ", the processor itself" : "");
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return DONE;
}

int main(int count, char **words)
{
    static const struct { const char *name; int (*run)(const options *); } verbs[] = {
        {"train", train}, {"eval", evaluate}, {"predict", predict}, {"info", info},
        {"convert", convert}, {"devices", devices}};
    struct sigaction action;
    options o;
    int status;
    size_t v;
    memset(&o, 0, sizeof o);
    memset(&action, 0, sizeof action);
    if (count < 2 || !strcmp(words[1], "--help") || !strcmp(words[1], "-h")) {
        fputs(usage_text, count < 2 ? stderr : stdout);
        return count < 2 ? USAGE : DONE;
    }
    if (!strcmp(words[1], "--version")) {
        printf("finetune %s\n", FINETUNE_VERSION);
        return DONE;
    }
    o.verb = words[1];
    o.files = (char **)calloc((size_t)count, sizeof *o.files);
    if (!o.files) return FAILED;
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND; /* the second Ctrl-C ends the program at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    status = parse(count, words, &o);
    for (v = 0; v < sizeof verbs / sizeof verbs[0]; ++v) {
        if (status != DONE || strcmp(verbs[v].name, o.verb) != 0) continue;
        status = verbs[v].run(&o);
        if (fflush(stdout) != 0) status = FAILED;
        free(o.files);
        return status;
    }
    free(o.files);
    return status != DONE ? status : usage("no such verb: ", o.verb);
}
