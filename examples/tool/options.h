/* options.h - what the tool's command line says.
   Part of examples/finetune.c. */

typedef struct options {
    const char *verb, *model, *data, *val, *out, *architecture, *freeze, *simd, *device, *rename;
    const char *type, *cache, *opencl_library, *precision;
    int epochs, batch_size, threads, per_class, top, checkpoint_steps;
    int streams, steps, minimum_count, features, hidden, layers, worst, length, top_k;
    double learning_rate, temperature, top_p;
    const char *text_column, *label_column, *vocabulary, *merges, *prompt;
    bool language_model, words, one_direction, greedy;
    unsigned long long seed;
    bool json, resume, flip, no_shift, allow_missing, allow_unexpected, quiet, times, check;
    char **files;
    int file_count;
} options;

static const char usage_text[] =
    "finetune " FINETUNE_VERSION ": fine-tune pretrained networks\n"
    "\n"
    "  finetune train --model WEIGHTS --data FOLDER --out FILE [--val FOLDER]\n"
    "  finetune eval --model FILE --data FOLDER\n"
    "  finetune predict --model FILE IMAGE...|TEXT...    (no TEXT: lines of standard input)\n"
    "  finetune train [--model WEIGHTS] --data TEXTS --out FILE\n"
    "  finetune generate --model FILE [--prompt TEXT]\n"
    "  finetune info --model FILE [--times]\n"
    "  finetune convert --model WEIGHTS --out FILE [--type f32|f16|bf16]\n"
    "  finetune devices [--check]        what --device may name\n"
    "\n"
    "WEIGHTS: .safetensors, or PyTorch's .pt or .pth. FOLDER: one folder of pictures per class.\n"
    "TEXTS: a .tsv, .csv or .jsonl, or a folder of .txt files for each class, to classify;\n"
    "a .txt for a language model.\n"
    "\n"
    "train:   --epochs N          of the last stage (default: chosen by the size of the data)\n"
    "         --batch-size N      --lr X\n"
    "         --per-class N       use only so many pictures of each class\n"
    "         --freeze GLOB       freeze exactly these (\"\" for nothing): no choice of stages\n"
    "         --flip              pictures may be mirrored   --no-shift  nor moved a little\n"
    "         --resume            go on from FILE.checkpoint if it is there\n"
    "         --checkpoint-steps N\n"
    "         --cache FOLDER|none keep there for the next run what frozen layers make of the pictures,\n"
    "                             and the kernels compiled for a device (default: FINETUNE_CACHE, else\n"
    "                             finetune in XDG_CACHE_HOME or ~/.cache, where 2 GB are kept)\n"
    "texts:   --text-column NAME|N --label-column NAME|N   (default: by name, else 1 and 2)\n"
    "         --worst N           mistakes to show after eval and --val (default 5)\n"
    "         --language-model    learn the texts of a table, not their labels\n"
    "         --streams N --steps N   of a language model (default 32 and 64)\n"
    "         --vocabulary FILE [--merges FILE]   vocab.txt, vocab.json, tokenizer.json, ...\n"
    "         --words --min-count N    a vocabulary of words, for a new language model\n"
    "         --hidden N --layers N --one-direction   of a new network\n"
    "generate: --length N --temperature X --top-k N --top-p X --greedy\n"
    "predict: --top N             classes to print (default 3)\n"
    "info:    --times             milliseconds of each operator in a training step of a batch\n"
    "devices: --check             compare and time every operator on each (or on --device's)\n"
    "all:     --arch NAME         when the weights' names do not tell the network\n"
    "         --rename A=B,...    leading parts of names in the weights file to replace\n"
    "         --allow-missing --allow-unexpected   weights that do not match\n"
    "         --seed N --threads N --simd none|sse2|avx2|avx512|neon\n"
    "         --precision float32|tf32|bf16|bf16_emulated (of the products)\n"
    "         --device cpu|gpu|auto|opencl:PLATFORM:DEVICE   (auto: a GPU if one works)\n"
    "         --opencl-library FILE   the loader, if it is not where the system looks\n"
    "         --json              end with one JSON object   --quiet\n";

static int usage(const char *problem, const char *what)
{
    fprintf(stderr, "finetune: %s%s\nfinetune: try finetune --help\n", problem, what);
    return USAGE;
}

/* One row per option: where its value goes, and how it is read: 's' text, 'b' no value, and numbers
   'n' from 1, 'i' from 0, 'u' from 0 with all 64 bits, 'f' above 0. */
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
    if (row->kind == 'f') return number > 0 && number <= 1e9;
    if (number < (row->kind == 'n') || number != (double)(unsigned long long)number) return false;
    if (row->kind == 'u') *(unsigned long long *)row->to = strtoull(value, NULL, 10);
    if (row->kind == 'u') return true;
    if (number > 1e9) return false;
    *(int *)row->to = (int)number;
    return true;
}

static int wrong_number(const option_row *row, const char *value)
{
    char text[200];
    snprintf(text, sizeof text, "%s: %.100s (wanted: %s)", row->name, value,
             row->kind == 'f' ? "a number above 0" : row->kind == 'n' ? "a whole number from 1"
                                                                       : "a whole number from 0");
    return usage("not a proper number after ", text);
}

static int parse(int count, char **words, options *o)
{
    const option_row rows[] = {
        {"--model", 's', &o->model}, {"--data", 's', &o->data}, {"--val", 's', &o->val},
        {"--out", 's', &o->out}, {"--arch", 's', &o->architecture},
        {"--freeze", 's', &o->freeze}, {"--simd", 's', &o->simd}, {"--device", 's', &o->device},
        {"--rename", 's', &o->rename}, {"--type", 's', &o->type},
        {"--cache", 's', &o->cache},
        {"--opencl-library", 's', &o->opencl_library},
        {"--precision", 's', &o->precision},
        {"--epochs", 'n', &o->epochs}, {"--batch-size", 'n', &o->batch_size},
        {"--threads", 'i', &o->threads}, {"--per-class", 'n', &o->per_class},
        {"--top", 'n', &o->top}, {"--checkpoint-steps", 'i', &o->checkpoint_steps},
        {"--text-column", 's', &o->text_column}, {"--label-column", 's', &o->label_column},
        {"--vocabulary", 's', &o->vocabulary}, {"--merges", 's', &o->merges},
        {"--prompt", 's', &o->prompt}, {"--streams", 'n', &o->streams},
        {"--steps", 'n', &o->steps}, {"--min-count", 'n', &o->minimum_count},
        {"--hidden", 'n', &o->hidden}, {"--layers", 'n', &o->layers}, {"--worst", 'n', &o->worst},
        {"--length", 'n', &o->length}, {"--top-k", 'i', &o->top_k},
        {"--temperature", 'f', &o->temperature}, {"--top-p", 'f', &o->top_p},
        {"--language-model", 'b', &o->language_model}, {"--words", 'b', &o->words},
        {"--one-direction", 'b', &o->one_direction}, {"--greedy", 'b', &o->greedy},
        {"--lr", 'f', &o->learning_rate}, {"--seed", 'u', &o->seed},
        {"--json", 'b', &o->json}, {"--resume", 'b', &o->resume}, {"--flip", 'b', &o->flip},
        {"--no-shift", 'b', &o->no_shift}, {"--quiet", 'b', &o->quiet},
        {"--times", 'b', &o->times},
        {"--check", 'b', &o->check},
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
        if (!store(&rows[r], value)) return wrong_number(&rows[r], value);
    }
    if (o->threads > 1024) return usage("more than 1024 threads", "");
    if (o->rename && !strchr(o->rename, '='))
        return usage("--rename wants FROM=TO, not ", o->rename);
    if (o->file_count > 0 && strcmp(o->verb, "predict") != 0 && strcmp(o->verb, "info") != 0)
        return usage("not an option: ", o->files[0]);
    return DONE;
}
