/* options.h - the tool's command line.
   Part of examples/finetune.c. */

enum { MOST_OPTIONS = 160 };
typedef struct options {
    const char *verb, *model, *data, *val, *out, *architecture, *freeze, *simd, *device, *rename;
    const char *state_dict, *sample;
    const char *arrays, *layout;
    const char *type, *dtype, *cache, *opencl_library, *precision;
    const char *augment, *balanced;
    double mixup, cutmix;
    const char *adapter, *save_adapter, *lora_layers;
    int epochs, max_steps, batch_size, threads, per_class, top, checkpoint_steps;
    int streams, steps, minimum_count, hidden, layers, worst, length, top_k, max_length, lora, transformers;
    double minimum_score, learning_rate, temperature, top_p, lora_alpha, lora_dropout;
    const char *pooling;
    const char *network;
    const char *text_column, *label_column, *vocabulary, *merges, *prompt, *header, *groups, *labels;
    const char *task;
    const char *chat, *stop, *until;
    bool pack;
    const char *metric, *report, *log_csv;
    double hold_back;
    int patience;
    bool calibrate, recalibrate;
    const char *loss, *activation, *where, *teacher;
    const char *optimizer, *schedule, *lr_plot;
    const char *rates, *budget, *plot; /* of a sweep */
    int seeds, draws, cut;
    int accumulate;
    double ema, layer_decay;
    bool find_rate, swa;
    int image_size, heads;
    bool normalize, pairs, language_model, words, one_direction, greedy;
    unsigned long long seed;
    size_t memory_budget;
    bool class_means, find_flip, last_block, average_start, mirrored;
    bool with_probabilities, with_preprocessing;
    bool head_only, dora, merge, graph, tensors, json, resume, flip, no_shift, allow_missing, allow_unexpected, quiet, times, check;
    char **files;
    int file_count;
    bool given[MOST_OPTIONS]; /* for each row of option_rows */
} options;

/* C99 has strings of up to 4095 characters. */
static const char usage_text[] =
    "finetune " FINETUNE_VERSION ": fine-tune pretrained networks\n"
    "\n"
    "  finetune train --model WEIGHTS --data FOLDER --out FILE [--val FOLDER]\n"
    "  finetune sweep --model WEIGHTS --data FOLDER --out FILE --lr X,X,...   tries settings, keeps the best\n"
    "  finetune eval --model FILE --data FOLDER\n"
    "  finetune predict --model FILE IMAGE...|TEXT...    (without TEXT: lines of standard input)\n"
    "  finetune train [--model WEIGHTS] --data TEXTS --out FILE\n"
    "  finetune embed --model FILE TEXT...   a vector for each (without TEXT: lines of standard input)\n"
    "  finetune generate --model FILE [--prompt TEXT | TEXT...]   (several are continued at once)\n"
    "  finetune info --model FILE [--times]\n"
    "  finetune convert --model WEIGHTS --out FILE [--type f32|f16|bf16]   (.npz: NumPy's; .keras, .h5: Keras')\n"
    "  finetune check --data FOLDER [--val FOLDER] [--model WEIGHTS]   duplicates, wrong labels, ...\n"
    "  finetune preview --model WEIGHTS --data FOLDER --out SHEET.png   what the network sees\n"
    "  finetune devices [--check]        list the values of --device\n"
    "\n"
    "WEIGHTS: .safetensors, .onnx, .keras, .h5, .npz, .pt or .pth, or Hugging Face's folder of a BERT,\n"
    "RoBERTa, DistilBERT, GPT-2, Llama, Qwen2, Qwen3, ViT, DeiT or DINOv2. FOLDER: one folder of pictures\n"
    "per class.\n"
    "TEXTS: a .tsv, .csv or .jsonl, or a folder of .txt files for each class, to classify;\n"
    "a .conll, .bio or .iob to find entities; a .txt for a language model.\n"
    "\n"
    "train:   --epochs N          of each stage (default: chosen from the size of the data)\n"
    "         --max-steps N       stop each stage after N steps, if its epochs have more\n"
    "         --batch-size N      --lr X|auto   (auto: found by a range test; --lr-plot FILE.svg)\n"
    "         --per-class N       at most N pictures of each class\n"
    "         --freeze GLOB       freeze these parameters (\"\" for none) and train all others at once\n"
    "         --head-only         train the new head, and leave all layers below it as they are\n"
    "         --loss KIND         cross_entropy, focal, hinge, binary_cross_entropy, dice, mse, l1, ...\n"
    "         --teacher FILE      a larger network of the data's classes, whose probabilities are learnt too\n"
    "         --activation KIND   exchange activations, such as gelu, ...   --where GLOB   those called so\n"
    "         --recalibrate       renew the statistics of batch norms by a pass over the data, before\n"
    "         --lora RANK         train small adapters beside frozen layers, and the head\n"
    "         --lora-layers GLOB  which (default: all linear layers and convolutions but the head)\n"
    "         --lora-alpha X --lora-dropout X   (16, 0)   --dora   train the lengths of rows apart\n"
    "         --save-adapter FOLDER   also write the adapters there as PEFT does (convert too)\n"
    "         --transformers 4|5  the version that will open them: ViT has other names in each (5)\n"
    "         --groups auto|name|none   hold back pictures TRACK_FRAME.* by whole tracks: where the\n"
    "                             names are certain (default), always, or never\n"
    "         --flip              also mirror pictures   --no-shift   do not shift pictures\n"
    "         --hold-back X       a share of the data to measure after each epoch instead of training\n"
    "                             on it; the weights of the best epoch are kept\n"
    "         --patience N        stop a stage after N epochs without a better one\n"
    "         --metric NAME       what is best: accuracy, f1_macro, roc_auc, loss, ... (default: the\n"
    "                             task's own)\n"
    "         --calibrate         fit the temperature of the probabilities on what was held back\n"
    "         --log-csv FILE      write a line for each epoch there\n"
    "         --report FILE.html  write curves, scores, mistakes, times there, in eval too\n"
    "         --resume            continue from FILE.checkpoint if it exists\n"
    "         --checkpoint-steps N   also write a checkpoint every N steps\n"
    "         --cache FOLDER|none save there, for the next run, the outputs of frozen layers and the\n"
    "                             kernels compiled for a device (default: FINETUNE_CACHE, else\n"
    "                             finetune in XDG_CACHE_HOME or ~/.cache, with at most 2 GB)\n";
static const char usage_pictures[] =
    "         --optimizer adamw|adam|sgd|rmsprop|adagrad|nadam|radam|lion|adafactor   (adamw)\n"
    "         --schedule constant|step|cosine|one_cycle|linear|warm_restarts|polynomial|\n"
    "                    inverse_sqrt|plateau   (default: chosen for each stage)\n"
    "         --accumulate N      batches for each update   --layer-decay X   each layer's rate is X\n"
    "                             times that of the layer after it\n"
    "         --ema D | --swa     keep an average of the weights: of all updates, the older ones times\n"
    "                             D, such as 0.999; or of the last quarter of the epochs\n"
    "pictures, in train and preview: --augment NAME[=X],...   other views in each epoch, as torchvision's:\n"
    "                             trivial or rand (TrivialAugmentWide, RandAugment), crop=LEAST_AREA,\n"
    "                             flip-vertical, degrees=X, zoom=X, shear=DEGREES, brightness=X, contrast=X,\n"
    "                             saturation=X, hue=X (to 0.5), blur=SIGMA, erase=SHARE, shift=SHARE\n"
    "         --mixup A --cutmix A    (train) mix each batch's pictures, by shares of Beta(A, A)\n"
    "         --mirrored          (eval too) score the mean of a picture's and its mirror image's output\n"
    "         --class-means       set the head to the mean features of each class, instead of training it alone\n"
    "         --find-flip         mirror pictures if held-back ones show that it changes no class\n"
    "         --last-block        after the head, train the last block alone before all layers\n"
    "         --average-start     average with the weights before the last stage, by the share that is best\n"
    "                             on what --hold-back holds back\n"
    "         --balanced sampling|loss   (train; texts too) rare classes count as frequent ones do:\n"
    "                             they are drawn as often, or weigh as much\n";
static const char usage_arrays[] =
    "arrays:  FOLDER may be an .npz: pictures of 8 bits, or numbers in the shape of the network's input\n"
    "         --arrays X,Y        names of samples and labels in an .npz (default: x and y, x_train and\n"
    "                             y_train, ...; with --val and eval x_test first)\n"
    "         --layout nchw|nhwc  of pictures whose sizes fit both\n";
static const char usage_sweep[] =
    "sweep, besides most options of train: lists of what is tried, all combinations\n"
    "         --lr X,X  --activation KIND,KIND  --loss KIND,KIND  --optimizer NAME,NAME   (an empty\n"
    "                             KIND: the network's own)\n"
    "         --freeze GLOB;GLOB  (\"\": nothing frozen; a comma before a glob: both)\n"
    "         --seeds N           runs of each setting  --draws N   only N settings, drawn at random\n"
    "         --budget TIME       for all together, such as 90s, 10m or 2h  --cut N   at each cut one\n"
    "                             in N settings goes on (3; 1: all are trained to the end)\n"
    "         --plot FILE.svg     each setting's value and interval  --resume   goes on after a stop\n";
static const char usage_texts[] =
    "texts:   --text-column NAME|N --label-column NAME|N   (default: the usual names in the header;\n"
    "                             without a header, 1 and 2). Several text columns, as NAME,NAME or\n"
    "                             by repeating the option, are joined by a space\n"
    "         --pairs             ... or with this are a pair, as columns of known names are without\n"
    "                             (premise and hypothesis); predict reads FIRST, a tab, SECOND\n"
    "         --header yes|no     whether the first line is a header\n"
    "         --max-length N      tokens to read of each text, also in predict (default: the model's;\n"
    "                             512 for a new model)\n"
    "         --worst N           mistakes to show after eval and --val (5); 0: none\n"
    "         --task classification|regression|tokens|embeddings|language-model   what to learn\n"
    "                             (default: what the texts show, said in one line)\n"
    "         --chat chatml|llama3|llama2   the template of messages, if the tokeniser does not show it;\n"
    "                             with prompts and completions: of these too\n"
    "         --pack              several completions in a row of --max-length tokens\n"
    "         --stop PIECE        ends a completion without a template (the tokeniser's end piece)\n"
    "         --language-model    as --task language-model: the texts of a table, not their labels\n"
    "         --streams N --steps N   batch and length for a language model (default 32 and 64)\n"
    "         --vocabulary FILE [--merges FILE]   vocab.txt, vocab.json, tokenizer.json, ...\n"
    "         --words --min-count N    use a vocabulary of words in a new language model\n"
    "         --network lstm_classifier|gru_classifier|bag_of_words   a new network for classes. Without:\n"
    "                             the first, or what --hold-back shows to be better: the first or the last\n"
    "         --hidden N --layers N --one-direction   settings of a new network\n"
    "generate: --length N --temperature X --top-k N --top-p X --greedy\n"
    "         --until TEXT        end before this text\n"
    "predict: --top N             classes to print (3)\n"
    "embed:   --out FILE.npy      write the vectors there, as NumPy's float32 [texts, features]\n"
    "vectors of texts, in embed and with --task embeddings:\n"
    "         --pooling mean|cls|max   how tokens become one vector (default: as the model says)\n"
    "         --normalize         divide each vector by its length\n"
    "         --min-score X       take pairs whose number in --label-column is at least X as such that mean\n"
    "                             the same, and learn only these (default: cosines follow the numbers)\n";
static const char usage_rest[] =
    "info:    --times             milliseconds of each operator in a training step of one batch\n"
    "         --graph             print the network's description, which --arch reads\n"
    "         --tensors           list the tensors of any file that is read, of a known network or not;\n"
    "                             in convert: copy them as they are, with their types and bits\n"
    "convert: --out FILE.onnx     an ONNX file, for other runtimes (.npz: NumPy's, else safetensors)\n"
    "         --with-probabilities   ONNX: the output is probabilities, not logits\n"
    "         --with-preprocessing   ONNX: the input is pictures of the network's size, [N, H, W, C] of\n"
    "                             bytes, which the graph normalises\n"
    "devices: --check             compare and time every operator on each device (or on --device)\n"
    "names:   --labels FILE       names of the model's classes: one per line, or lines as in ImageNet's\n"
    "                             lists (id, tab, names); convert and train save them in their file\n"
    "adapters: --adapter FOLDER   load PEFT's adapters beside --model   --merge   (convert) add them\n"
    "                             to the weights\n"
    "all:     --arch NAME|FILE    the network, if the weights do not show it; FILE describes one\n"
    "                             (docs/networks.md)\n"
    "         --image-size N      side of a vision transformer's pictures in pixels\n"
    "         --heads N           heads of attention, if neither folder nor sizes show them\n"
    "         --sample C,H,W      sizes of a sample that an ONNX file leaves open\n"
    "         --rename A=B,...    replace A by B at the start of the weights' names\n"
    "         --state-dict KEY    which weights of a checkpoint to load, such as model_ema\n"
    "         --allow-missing --allow-unexpected   load what matches\n"
    "         --seed N --threads N --simd none|sse2|avx2|avx512|neon\n"
    "         --memory-budget N   bytes for train, eval, predict or generate, such as 500M or 2G\n"
    "                             (GB is 10^9, G and GiB are 2^30)\n"
    "         --precision float32|tf32|bf16|bf16_emulated   (of matrix products)\n"
    "         --dtype f32|f16|bf16|int8|auto   of frozen weights (auto: as in the file)\n"
    "         --device cpu|gpu|auto|opencl:PLATFORM:DEVICE   (auto: a GPU if one works)\n"
    "         --opencl-library FILE   the OpenCL loader, if it is not found\n"
    "         --json              print one JSON object, of an error too   --quiet\n";

static int usage(const char *problem, const char *what)
{
    complain("%s%s", problem, what);
    fprintf(stderr, "finetune: try finetune --help\n");
    return USAGE;
}

/* Conditions that an option may need to have an effect. Those from PICTURES on are known once the
   model is open. */
enum {
    MODEL = 1, NEW = 2, VOCABULARY = 4, SCORED = 8, DRAWN = 16, LINES = 32, DEVICE = 64, CHECKED = 128,
    LORA = 256, HELD_BACK = 512, SWAPS = 1024, PICTURES = 2048, TEXTS = 4096, LABELLED = 8192,
    STREAMS = 16384, TABLE = 32768, NEW_WORDS = 65536, NO_CLASSES = 131072, COMPLETIONS = 262144,
    SAMPLES = 524288, ARRAYS = 1048576
};
static const char *const fact_texts[] = {
    "a loaded network (--model)", "a new network, without --model", "--vocabulary",
    "eval, or train and sweep with --val", "random text, without --greedy", "output without --json",
    "--device and the verb devices", "the other verbs, and for devices with --check", "--lora",
    "--hold-back", "--activation", "pictures", "text", "labelled data; for a language model use --streams",
    "a language model's text, not completions", "a table (.tsv, .csv, .jsonl)",
    "a vocabulary made from these texts, but there is one already",
    "a new network or a language model, but this network classifies texts",
    "a .jsonl of prompts with completions, or of messages",
    "labelled data or completions; for a language model's text use --streams",
    "arrays (.npz, .npy)"};

/* One row per option: where its value goes, how it is read, its verbs by their letters (NULL:
   all), and the conditions that it needs. An option without any effect is an error. How: 's' text,
   'l' a list (if given again, the next value is joined by a comma), 'b' no value, and numbers: 'n'
   from 1, 'i' from 0, 'u' from 0 with all 64 bits, 'f' above 0, 'r' above 0 or auto, in
   sweep a list, 'm' bytes. */
typedef struct option_row {
    const char *name;
    char kind;
    size_t to;
    const char *verbs;
    int needs;
} option_row;

static const option_row option_rows[] = {
#define AT(field) offsetof(options, field)
    {"--model", 's', AT(model), "tepgicvkws", 0},
    {"--data", 's', AT(data), "tekws", 0},
    {"--val", 's', AT(val), "tks", 0},
    {"--out", 's', AT(out), "tcvws", 0},
    {"--epochs", 'n', AT(epochs), "ts", 0},
    {"--max-steps", 'n', AT(max_steps), "ts", 0},
    {"--batch-size", 'n', AT(batch_size), "teivs", SAMPLES},
    {"--lr", 'r', AT(learning_rate), "ts", 0},
    {"--seeds", 'n', AT(seeds), "s", 0},
    {"--draws", 'n', AT(draws), "s", 0},
    {"--cut", 'n', AT(cut), "s", 0},
    {"--budget", 's', AT(budget), "s", 0},
    {"--plot", 's', AT(plot), "s", 0},
    {"--lr-plot", 's', AT(lr_plot), "t", 0},
    {"--layer-decay", 'f', AT(layer_decay), "ts", 0},
    {"--optimizer", 's', AT(optimizer), "ts", 0},
    {"--schedule", 's', AT(schedule), "ts", 0},
    {"--accumulate", 'n', AT(accumulate), "ts", 0},
    {"--ema", 'f', AT(ema), "ts", 0},
    {"--swa", 'b', AT(swa), "ts", 0},
    {"--per-class", 'n', AT(per_class), "ts", LABELLED},
    {"--freeze", 's', AT(freeze), "ts", 0},
    {"--head-only", 'b', AT(head_only), "t", MODEL},
    {"--lora", 'n', AT(lora), "t", MODEL},
    {"--lora-layers", 's', AT(lora_layers), "t", LORA},
    {"--lora-alpha", 'f', AT(lora_alpha), "t", LORA},
    {"--lora-dropout", 'f', AT(lora_dropout), "t", LORA},
    {"--dora", 'b', AT(dora), "t", LORA},
    {"--save-adapter", 's', AT(save_adapter), "tc", MODEL},
    {"--transformers", 'n', AT(transformers), "tc", MODEL},
    {"--adapter", 's', AT(adapter), "tepicvkw", MODEL},
    {"--merge", 'b', AT(merge), "c", MODEL},
    {"--groups", 's', AT(groups), "ts", PICTURES},
    {"--loss", 's', AT(loss), "ts", LABELLED},
    {"--teacher", 's', AT(teacher), "t", LABELLED},
    {"--activation", 's', AT(activation), "ts", MODEL},
    {"--where", 's', AT(where), "ts", SWAPS},
    {"--recalibrate", 'b', AT(recalibrate), "t", MODEL},
    {"--flip", 'b', AT(flip), "tws", PICTURES},
    {"--no-shift", 'b', AT(no_shift), "tws", PICTURES},
    {"--mirrored", 'b', AT(mirrored), "te", SCORED | PICTURES},
    {"--class-means", 'b', AT(class_means), "t", PICTURES},
    {"--find-flip", 'b', AT(find_flip), "t", PICTURES},
    {"--last-block", 'b', AT(last_block), "t", PICTURES},
    {"--average-start", 'b', AT(average_start), "t", PICTURES | HELD_BACK},
    {"--hold-back", 'f', AT(hold_back), "ts", SAMPLES},
    {"--patience", 'n', AT(patience), "t", HELD_BACK},
    {"--metric", 's', AT(metric), "t", HELD_BACK},
    {"--calibrate", 'b', AT(calibrate), "ts", HELD_BACK | LABELLED},
    {"--log-csv", 's', AT(log_csv), "t", 0},
    {"--report", 's', AT(report), "tes", 0},
    {"--augment", 'l', AT(augment), "tws", PICTURES},
    {"--mixup", 'f', AT(mixup), "ts", PICTURES},
    {"--cutmix", 'f', AT(cutmix), "ts", PICTURES},
    {"--balanced", 's', AT(balanced), "ts", LABELLED},
    {"--resume", 'b', AT(resume), "ts", 0},
    {"--checkpoint-steps", 'i', AT(checkpoint_steps), "t", 0},
    {"--arrays", 's', AT(arrays), "tes", ARRAYS},
    {"--layout", 's', AT(layout), "tes", ARRAYS},
    {"--text-column", 'l', AT(text_column), "tes", TEXTS | TABLE},
    {"--label-column", 's', AT(label_column), "tes", TEXTS | TABLE | LABELLED},
    {"--pairs", 'b', AT(pairs), "teps", TEXTS | LABELLED},
    {"--header", 's', AT(header), "tes", TEXTS | TABLE},
    {"--max-length", 'n', AT(max_length), "tepvs", TEXTS | SAMPLES},
    {"--worst", 'i', AT(worst), "tes", SCORED | TEXTS | LABELLED},
    {"--chat", 's', AT(chat), "teg", TEXTS | COMPLETIONS},
    {"--stop", 's', AT(stop), "te", TEXTS | COMPLETIONS},
    {"--pack", 'b', AT(pack), "t", TEXTS | COMPLETIONS},
    {"--task", 's', AT(task), "tes", TEXTS},
    {"--language-model", 'b', AT(language_model), "te", TEXTS | NO_CLASSES},
    {"--streams", 'n', AT(streams), "te", STREAMS},
    {"--steps", 'n', AT(steps), "te", STREAMS},
    {"--vocabulary", 's', AT(vocabulary), "tepgvs", TEXTS},
    {"--merges", 's', AT(merges), "tepgvs", VOCABULARY},
    {"--words", 'b', AT(words), "ts", TEXTS | NEW_WORDS},
    {"--min-count", 'n', AT(minimum_count), "ts", TEXTS | NEW_WORDS},
    {"--hidden", 'n', AT(hidden), "ts", NEW},
    {"--layers", 'n', AT(layers), "ts", NEW},
    {"--network", 's', AT(network), "t", NEW | LABELLED},
    {"--one-direction", 'b', AT(one_direction), "ts", NEW | LABELLED},
    {"--prompt", 's', AT(prompt), "g", 0},
    {"--until", 's', AT(until), "g", 0},
    {"--length", 'n', AT(length), "g", 0},
    {"--temperature", 'f', AT(temperature), "g", DRAWN},
    {"--top-k", 'i', AT(top_k), "g", DRAWN},
    {"--top-p", 'f', AT(top_p), "g", DRAWN},
    {"--greedy", 'b', AT(greedy), "g", 0},
    {"--top", 'n', AT(top), "p", 0},
    {"--pooling", 's', AT(pooling), "tevs", TEXTS | MODEL},
    {"--normalize", 'b', AT(normalize), "tevs", TEXTS | MODEL},
    {"--min-score", 'f', AT(minimum_score), "ts", TEXTS | TABLE},
    {"--times", 'b', AT(times), "i", LINES | PICTURES},
    {"--graph", 'b', AT(graph), "i", LINES},
    {"--tensors", 'b', AT(tensors), "ic", 0},
    {"--type", 's', AT(type), "c", 0},
    {"--with-probabilities", 'b', AT(with_probabilities), "c", MODEL},
    {"--with-preprocessing", 'b', AT(with_preprocessing), "c", MODEL},
    {"--dtype", 's', AT(dtype), "tepgivs", MODEL},
    {"--check", 'b', AT(check), "d", 0},
    {"--labels", 's', AT(labels), "tepcs", MODEL},
    {"--arch", 's', AT(architecture), "tepgicvkws", MODEL},
    {"--image-size", 'n', AT(image_size), "tepickws", MODEL},
    {"--heads", 'n', AT(heads), "tepgicvkws", MODEL},
    {"--sample", 's', AT(sample), "tepgicvkws", MODEL},
    {"--rename", 's', AT(rename), "tepgicvkws", MODEL},
    {"--state-dict", 's', AT(state_dict), "tepgicvkws", MODEL},
    {"--allow-missing", 'b', AT(allow_missing), "tepgicvkws", MODEL},
    {"--allow-unexpected", 'b', AT(allow_unexpected), "tepgicvkws", MODEL},
    {"--seed", 'u', AT(seed), NULL, 0},
    {"--threads", 'i', AT(threads), NULL, 0},
    {"--memory-budget", 'm', AT(memory_budget), "tepgvs", 0},
    {"--simd", 's', AT(simd), NULL, 0},
    {"--precision", 's', AT(precision), NULL, 0},
    {"--cache", 's', AT(cache), NULL, 0},
    {"--device", 's', AT(device), NULL, CHECKED},
    {"--opencl-library", 's', AT(opencl_library), NULL, DEVICE},
    {"--json", 'b', AT(json), NULL, 0},
    {"--quiet", 'b', AT(quiet), NULL, 0}
#undef AT
};
enum { OPTION_ROWS = sizeof option_rows / sizeof option_rows[0] };
typedef char option_rows_fit[(int)OPTION_ROWS <= (int)MOST_OPTIONS ? 1 : -1];

/* The type that --dtype names; FT_OTHER if it names none. */
static ft_type frozen_type(const options *o)
{
    static const struct { const char *name; ft_type type; } types[] = {
        {"f32", FT_F32}, {"f16", FT_F16}, {"bf16", FT_BF16}, {"int8", FT_I8}};
    size_t i;
    if (!o->dtype) return FT_F32;
    for (i = 0; i < sizeof types / sizeof types[0]; ++i)
        if (strcmp(o->dtype, types[i].name) == 0) return types[i].type;
    return FT_OTHER;
}

/* --dtype auto: the weights stay as they are in the file. */
static bool keeps_types(const options *o) { return o->dtype && strcmp(o->dtype, "auto") == 0; }

/* The template that --chat names; FT_CHAT_AUTO without it, or if it names none. */
static ft_chat_template chat_template(const options *o)
{
    if (!o->chat) return FT_CHAT_AUTO;
    return !strcmp(o->chat, "chatml") ? FT_CHAT_ML : !strcmp(o->chat, "llama3") ? FT_CHAT_LLAMA3
        : !strcmp(o->chat, "llama2") ? FT_CHAT_LLAMA2 : FT_CHAT_AUTO;
}

/* The task that --task names; FT_TASK_AUTO without it, or if it names none. */
static ft_task wanted_task(const options *o)
{
    int task;
    if (o->language_model) return FT_TASK_LANGUAGE_MODEL;
    for (task = FT_TASK_LANGUAGE_MODEL; o->task && task > FT_TASK_AUTO; --task)
        if (!strcmp(o->task, ft_task_name((ft_task)task))) return (ft_task)task;
    return FT_TASK_AUTO;
}

/* How tokens become the vector of a text; FT_POOL_LAST: --pooling is not given, or names none. */
static ft_step_pooling pooling_kind(const options *o)
{
    static const struct { const char *name; ft_step_pooling kind; } kinds[] = {
        {"mean", FT_POOL_MEAN}, {"cls", FT_POOL_FIRST}, {"max", FT_POOL_MAX}};
    int k;
    for (k = 0; o->pooling && k < 3; ++k)
        if (!strcmp(o->pooling, kinds[k].name)) return kinds[k].kind;
    return FT_POOL_LAST;
}

/* The metric that --metric names; FT_METRIC_AUTO without it, or if it names none. */
static ft_metric followed_metric(const options *o)
{
    int metric;
    for (metric = FT_METRIC_COUNT - 1; o->metric && metric > FT_METRIC_AUTO; --metric)
        if (!strcmp(o->metric, ft_metric_name((ft_metric)metric))) return (ft_metric)metric;
    return FT_METRIC_AUTO;
}

/* Prints the names that there are. */
static int unknown_metric(const char *name)
{
    char names[600] = "";
    int metric;
    for (metric = FT_METRIC_LOSS; metric < FT_METRIC_COUNT; ++metric)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                 metric == FT_METRIC_LOSS ? "" : ", ", ft_metric_name((ft_metric)metric));
    complain("--metric %.100s: there is none of this name; there are %s", name, names);
    return USAGE;
}

static bool read_number(const char *text, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return *text && !*end;
}

/* Appends a list's next value to those that were given before. */
static const char *joined(const char *before, const char *value)
{
    static char list[4096];
    if (!before) return value;
    if (strlen(before) + strlen(value) + 2 > sizeof list) return NULL;
    if (before != list) strcpy(list, before);
    return strcat(strcat(list, ","), value);
}

/* Bytes as people write them: 1000000, 500M, 1.5G, 512MiB, 2GB. A letter alone or with iB is a power
   of 1024; with B it is a power of 1000. */
static bool read_bytes(const char *text, size_t *bytes)
{
    static const char letters[] = "KMGT";
    char *end;
    const char *letter;
    double number = strtod(text, &end);
    int power;
    if (end == text || !(number > 0) || strspn(text, "0123456789.") != (size_t)(end - text)) return false;
    letter = *end ? strchr(letters, *end & ~0x20) : NULL;
    if (letter) {
        double unit = end[1] == 'B' || end[1] == 'b' ? 1000 : 1024;
        for (power = (int)(letter - letters) + 1; power > 0; --power) number *= unit;
        end += end[1] == 'i' && (end[2] == 'B' || end[2] == 'b') ? 3 : unit == 1000 ? 2 : 1;
    } else if (*end == 'B') end += 1;
    if (*end || number < 1 || number >= (double)(SIZE_MAX / 2)) return false;
    *bytes = (size_t)number;
    return true;
}

static bool store(const option_row *row, options *o, const char *value)
{
    void *to = (char *)o + row->to;
    double number = 0;
    if (row->kind == 's') *(const char **)to = value;
    if (row->kind == 's') return true;
    if (row->kind == 'l') *(const char **)to = joined(*(const char **)to, value);
    if (row->kind == 'l') return *(const char **)to != NULL;
    if (row->kind == 'm') return read_bytes(value, (size_t *)to);
    if (row->kind == 'r' && !strcmp(o->verb, "sweep")) return o->rates = value, true;
    if (row->kind == 'r') o->find_rate = !strcmp(value, "auto");
    if (row->kind == 'r' && o->find_rate) return true;
    if (!read_number(value, &number)) return false;
    if (row->kind == 'f' || row->kind == 'r') *(double *)to = number;
    if (row->kind == 'f' || row->kind == 'r') return number > 0 && number <= 1e9;
    if (number < (row->kind == 'n') || number != (double)(unsigned long long)number) return false;
    if (row->kind == 'u') *(unsigned long long *)to = strtoull(value, NULL, 10);
    if (row->kind == 'u') return true;
    if (number > 1e9) return false;
    *(int *)to = (int)number;
    return true;
}

static int wrong_number(const option_row *row, const char *value)
{
    char text[200];
    snprintf(text, sizeof text, "%s: %.100s (expected: %s)", row->name, value,
             row->kind == 'm' ? "bytes, such as 500M or 2G" : row->kind == 'f' ? "a number above 0"
             : row->kind == 'r' ? "a number above 0, or auto"
             : row->kind == 'n' ? "a whole number of at least 1" : "a whole number of at least 0");
    return usage("not a valid number after ", text);
}

/* The row of an option; OPTION_ROWS: there is none. */
static int find_option(const char *name)
{
    int r = 0;
    while (r < OPTION_ROWS && strcmp(option_rows[r].name, name) != 0) ++r;
    return r;
}

/* Was this option on the command line? */
static bool is_given(const options *o, const char *name)
{
    int r = find_option(name);
    return r < OPTION_ROWS && o->given[r];
}

/* Do all options have an effect? `known` is the set of conditions that are decided so far, and
   `are_true` those of them that hold. Prints an option that has none. */
static bool all_have_effect(const options *o, int known, int are_true)
{
    char text[300];
    int r, f;
    for (r = 0; r < OPTION_ROWS; ++r) {
        const option_row *row = &option_rows[r];
        int missing = row->needs & known & ~are_true;
        if (!o->given[r] || !missing) continue;
        for (f = 0; !(missing >> f & 1); ++f) {}
        snprintf(text, sizeof text, "%s has no effect here: it is for %s", row->name, fact_texts[f]);
        usage(text, "");
        return false;
    }
    return true;
}

/* The letter of a verb in option_rows: its first one ('s' for sweep), but 'v' (vectors) for embed, 'k' for check,
   'w' (what the network sees) for preview. */
static char verb_letter(const char *verb)
{
    return !strcmp(verb, "embed") ? 'v' : !strcmp(verb, "check") ? 'k'
        : !strcmp(verb, "preview") ? 'w' : verb[0];
}

/* What was given for an option; `text` is room for a number. */
static const char *option_text(const options *o, int r, char text[64])
{
    const option_row *row = &option_rows[r];
    const void *at = (const char *)o + row->to;
    if (row->kind == 's' || row->kind == 'l') return *(const char *const *)at;
    if (row->kind == 'b') return "yes";
    if (row->kind == 'r' && o->rates) return o->rates;
    if (row->kind == 'r' && o->find_rate) return "auto";
    if (row->kind == 'f' || row->kind == 'r') snprintf(text, 64, "%.9g", *(const double *)at);
    else if (row->kind == 'u') snprintf(text, 64, "%llu", *(const unsigned long long *)at);
    else if (row->kind == 'm') snprintf(text, 64, "%zu", *(const size_t *)at);
    else snprintf(text, 64, "%d", *(const int *)at);
    return text;
}

/* Are all options among the verb's, with an effect as far as the command line shows? */
static bool options_fit(const options *o)
{
    static const char *const verbs[] = {"train", "eval", "predict", "generate", "info", "convert",
                                        "devices", "embed", "check", "preview", "sweep"};
    bool lists = !strcmp(o->verb, "devices");
    int facts = o->model || o->file_count > 0 ? MODEL : NEW, r;
    char text[300];
    size_t v;
    if (o->vocabulary) facts |= VOCABULARY;
    if (o->val || !strcmp(o->verb, "eval")) facts |= SCORED;
    if (!o->greedy) facts |= DRAWN;
    if (!o->json) facts |= LINES;
    if (o->device || lists) facts |= DEVICE;
    if (o->check || !lists) facts |= CHECKED;
    if (o->lora) facts |= LORA;
    if (o->hold_back > 0 || !strcmp(o->verb, "sweep")) facts |= HELD_BACK;
    if (o->activation) facts |= SWAPS;
    for (r = 0; r < OPTION_ROWS; ++r) {
        if (!o->given[r] || !option_rows[r].verbs
            || strchr(option_rows[r].verbs, verb_letter(o->verb))) continue;
        snprintf(text, sizeof text, "%s has no effect in %.20s: it is for", option_rows[r].name, o->verb);
        for (v = 0; v < sizeof verbs / sizeof verbs[0]; ++v)
            if (strchr(option_rows[r].verbs, verb_letter(verbs[v])))
                snprintf(text + strlen(text), sizeof text - strlen(text), " %s", verbs[v]);
        usage(text, "");
        return false;
    }
    return all_have_effect(o, PICTURES - 1, facts);
}

static int parse(int count, char **words, options *o)
{
    int i, r;
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
        r = find_option(words[i]);
        if (r == OPTION_ROWS) return usage("unknown option: ", words[i]);
        o->given[r] = true;
        if (option_rows[r].kind == 'b') {
            if (value) return usage("no value is expected after ", words[i]);
            *(bool *)((char *)o + option_rows[r].to) = true;
            continue;
        }
        if (!value) value = ++i < count ? words[i] : NULL;
        if (!value) return usage("a value is missing after ", option_rows[r].name);
        if (!store(&option_rows[r], o, value)) return wrong_number(&option_rows[r], value);
    }
    if (o->lr_plot && !o->find_rate) return usage("--lr-plot has no effect here: it is for --lr auto", "");
    if (o->threads > 1024) return usage("--threads must be at most 1024", "");
    if (o->balanced && strcmp(o->balanced, "sampling") != 0 && strcmp(o->balanced, "loss") != 0)
        return usage("--balanced must be sampling or loss, not ", o->balanced);
    if (o->groups && strcmp(o->groups, "auto") != 0 && strcmp(o->groups, "name") != 0
        && strcmp(o->groups, "none") != 0)
        return usage("--groups must be auto, name or none, not ", o->groups);
    if (o->header && strcmp(o->header, "yes") != 0 && strcmp(o->header, "no") != 0)
        return usage("--header must be yes or no, not ", o->header);
    if (o->dtype && frozen_type(o) == FT_OTHER && strcmp(o->dtype, "auto") != 0)
        return usage("--dtype must be f32, f16, bf16, int8 or auto, not ", o->dtype);
    if (o->layout && strcmp(o->layout, "nchw") != 0 && strcmp(o->layout, "nhwc") != 0)
        return usage("--layout must be nchw or nhwc, not ", o->layout);
    if (o->hold_back >= 1)
        return usage("--hold-back must be a share of the data, above 0 and below 1", "");
    if (o->metric && followed_metric(o) == FT_METRIC_AUTO) return unknown_metric(o->metric);
    if (o->chat && chat_template(o) == FT_CHAT_AUTO)
        return usage("--chat must be chatml, llama3 or llama2, not ", o->chat);
    if (o->task && (o->language_model || wanted_task(o) == FT_TASK_AUTO))
        return usage("--task must be classification, regression, tokens, embeddings or language-model"
                     " (alone, without --language-model), not ", o->task);
    if (o->transformers && (!o->save_adapter || o->transformers < 4 || o->transformers > 5))
        return usage("--transformers must be 4 or 5, and is for --save-adapter", "");
    if (o->head_only && (o->freeze || o->lora || o->adapter))
        return usage("--head-only has no effect with --freeze, --lora and --adapter", "");
    if (o->network && strcmp(o->network, "lstm_classifier") != 0 && strcmp(o->network, "gru_classifier") != 0
        && strcmp(o->network, "bag_of_words") != 0)
        return usage("--network must be lstm_classifier, gru_classifier or bag_of_words, not ", o->network);
    if (o->network && !strcmp(o->network, "bag_of_words") && (o->hidden || o->layers || o->one_direction))
        return usage("--hidden, --layers and --one-direction have no effect with --network bag_of_words", "");
    if (o->rename && !strchr(o->rename, '='))
        return usage("--rename must be FROM=TO, not ", o->rename);
    if (o->pooling && pooling_kind(o) == FT_POOL_LAST)
        return usage("--pooling must be mean, cls or max, not ", o->pooling);
    if (o->file_count > 0 && strcmp(o->verb, "predict") != 0 && strcmp(o->verb, "info") != 0
        && strcmp(o->verb, "embed") != 0 && strcmp(o->verb, "generate") != 0)
        return usage("unexpected argument: ", o->files[0]);
    return options_fit(o) ? DONE : USAGE;
}
