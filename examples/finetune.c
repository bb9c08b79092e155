/* finetune - the command-line tool: fine-tune a pretrained network on pictures or on text.

     finetune train --model resnet18.safetensors --data photos/ --out mine.safetensors
     finetune eval --model mine.safetensors --data more_photos/
     finetune predict --model mine.safetensors picture.jpg
     finetune train --data sentences.tsv --out mine.safetensors
     finetune generate --model mine.safetensors --prompt "Once"

   finetune.h does the work. This file and its parts in examples/tool read options, print, and
   handle Ctrl-C. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static char complaint[2048]; /* the last one; for --json */

/* Prints an error: one line. */
#ifdef __GNUC__
__attribute__((format(printf, 1, 2)))
#endif
static void complain(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(complaint, sizeof complaint, format, values);
    va_end(values);
    fprintf(stderr, "finetune: %s\n", complaint);
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#include "tool/options.h"
#include "tool/history.h"
#include "tool/report.h"
#include "tool/cache.h"
#include "tool/labels.h"
#include "tool/hdf5.h"
#include "tool/data.h"
#include "tool/text.h"
#include "tool/embed.h"
#include "tool/settings.h"
#include "tool/html.h"
#include "tool/pictures.h"
#include "tool/plot.h"
#include "tool/train.h"
#include "tool/sweep.h"
#include "tool/predict.h"
#include "tool/shapes.h"
#include "tool/tensors.h"
#include "tool/info.h"
#include "tool/devices.h"

/* ---- convert ---- */

static int convert(const options *o)
{
    ft_save_options save;
    ft_model *m;
    memset(&save, 0, sizeof save);
    if (!o->model || !o->out) return usage("convert needs --model and --out", "");
    if (o->type && !strcmp(o->type, "f16")) save.type = FT_F16;
    else if (o->type && !strcmp(o->type, "bf16")) save.type = FT_BF16;
    else if (o->type && strcmp(o->type, "f32") != 0) return usage("--type must be f32, f16 or bf16", "");
    save.with_probabilities = o->with_probabilities;
    save.with_preprocessing = o->with_preprocessing;
    if ((o->with_probabilities || o->with_preprocessing) && !ends_with(o->out, ".onnx"))
        return usage("--with-probabilities and --with-preprocessing need an --out that ends in .onnx", "");
    if (o->tensors && !suits_tensors(o)) return USAGE;
    if (!can_write(o) || !can_write_adapter(o)) return FAILED;
    if (o->tensors) return convert_tensors(NULL, o, save);
    if (!(m = open_model(o))) return FAILED;
    if (only_tensors(m, o) && !o->labels && !o->save_adapter) return convert_tensors(m, o, save);
    if (o->labels && !name_classes(m, o)) return failed(m);
    save_adapter(m, o);
    ft_save(m, o->out, save);
    if (ft_error(m)) return report(m);
    if (!o->quiet) say_losses(m, o);
    if (o->json) {
        printf("{\"out\": ");
        print_json_text(o->out);
        printf("}\n");
    } else if (!o->quiet) printf("%s written\n", o->out);
    ft_destroy(m);
    return DONE;
}

static bool has_word(int count, char **words, const char *word)
{
    int i;
    for (i = 1; i < count; ++i)
        if (!strcmp(words[i], word)) return true;
    return false;
}

static bool asks_for_help(int count, char **words)
{
    return has_word(count, words, "--help") || has_word(count, words, "-h")
        || !strcmp(words[1], "help");
}

/* Was all output written? The disk may be full, or the descriptor closed. */
static bool output_is_written(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    fprintf(stderr, "finetune: standard output: cannot be written%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return false;
}

int main(int count, char **words)
{
    static const struct { const char *name; int (*run)(const options *); } verbs[] = {
        {"train", train}, {"eval", evaluate}, {"predict", predict},
        {"generate", generate}, {"info", info}, {"embed", embed},
        {"convert", convert}, {"devices", devices}, {"check", check}, {"preview", preview}, {"sweep", sweep}};
    enum { VERBS = sizeof verbs / sizeof verbs[0] };
    struct sigaction action;
    options o;
    int status;
    size_t v;
    memset(&o, 0, sizeof o);
    memset(&action, 0, sizeof action);
    if (count < 2 || asks_for_help(count, words)) {
        fprintf(count < 2 ? stderr : stdout, "%s%s%s%s%s%s", usage_text, usage_pictures, usage_arrays,
                usage_sweep, usage_texts, usage_rest);
        return count < 2 ? USAGE : output_is_written() ? DONE : FAILED;
    }
    if (!strcmp(words[1], "--version")) {
        printf("finetune %s\n", FINETUNE_VERSION);
        return output_is_written() ? DONE : FAILED;
    }
    o.verb = words[1];
    o.files = (char **)calloc((size_t)count, sizeof *o.files);
    if (!o.files) return FAILED;
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND; /* the second Ctrl-C ends the program at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &action, NULL); /* writing a file over the limit then fails */
    for (v = 0; v < VERBS && strcmp(verbs[v].name, o.verb) != 0; ++v) {}
    status = v == VERBS ? usage("unknown verb: ", o.verb) : parse(count, words, &o);
    if (status == DONE) status = verbs[v].run(&o);
    if (status != DONE && has_word(count, words, "--json")) print_json_error("{");
    if (!output_is_written()) status = FAILED;
    free(o.files);
    return status;
}
