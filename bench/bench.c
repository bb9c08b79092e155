/* bench.c - times one piece of work with finetune.h and prints one line of JSON.
     build/bench WORK [SECONDS] [--slices] [--threads N] [--simd LEVEL] [--operators]
                 [--check DIRECTORY]
   WORK as in bench/run.py. --slices reads seconds from stdin, line by line, works for so long each
   time and prints a line each time, so that two libraries can take turns. "peak" is what the same
   threads make of float32 multiply-adds in registers, in GFLOP/s, "of_peak" the work's share of it
   (Winograd's form of a convolution counts as the products that it spares; bf16 may exceed 1).
   --operators also prints, of each operator, the milliseconds of a step forward and backward, each
   beside its floor (see `cost`), GFLOP and MB; --check compares the logits with those of another
   library (bench/peers.py export) instead. Else the values are drawn at random, and no file is read.
     build/bench machine [--threads N] [--simd LEVEL]
   prints both limits alone: "peak", and "bandwidth", the GB/s that a copy reads and writes. */
#define _POSIX_C_SOURCE 200809L
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

#include <sys/resource.h>
#include <time.h>

static double now(void *user)
{
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct work {
    const char *name, *network;
    int batch;
    bool training;
    const char *freeze, *unfreeze; /* globs, in this order; NULL: none */
    const char *precision;
    int length;                 /* steps of a sequence of token ids; 0: pictures or vectors */
    int layers, hidden, heads;  /* of a transformer; 0: none */
    bool lora;                  /* rank 8 beside all linear layers but the head */
    bool sentences;             /* texts of sst2's lengths, padded to the longest; else all are full */
} work;

/* Tokens of sst2's training sentences as minilm_l3 reads them: 32 quantiles of 6,920. Of one text:
   23, their mean. */
enum { LONGEST = 50, TYPICAL = 23 };
static const int sentence_lengths[32] = {5,  7,  9,  10, 11, 12, 14, 15, 16, 17, 17,
                                         18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
                                         29, 30, 31, 32, 34, 35, 37, 40, 43, LONGEST};

static const work works[] = {
    {.name = "resnet18_whole", .network = "resnet18", .batch = 16, .training = true},
    {.name = "resnet18_bf16", .network = "resnet18", .batch = 16, .training = true,
     .precision = "bf16"},
    {.name = "resnet18_layer4", .network = "resnet18", .batch = 16, .training = true,
     .freeze = "*", .unfreeze = "layer4.*"},
    {.name = "resnet18_inference_16", .network = "resnet18", .batch = 16},
    {.name = "resnet18_inference_1", .network = "resnet18", .batch = 1},
    {.name = "keras_cnn", .network = "keras_cnn", .batch = 32, .training = true},
    {.name = "mobilenet_whole", .network = "mobilenet_v1", .batch = 16, .training = true},
    {.name = "mobilenet_inference_1", .network = "mobilenet_v1", .batch = 1},
    {.name = "mlp", .batch = 32, .training = true},
    {.name = "lstm_classifier", .network = "lstm_classifier", .batch = 32, .training = true,
     .length = 100},
    {.name = "char_rnn_generate", .network = "char_rnn", .batch = 1, .length = 1},
    {.name = "bert_tiny", .network = "bert", .batch = 32, .training = true, .length = 128,
     .layers = 2, .hidden = 128, .heads = 2},
    {.name = "bert_mini", .network = "bert", .batch = 32, .training = true, .length = 128,
     .layers = 4, .hidden = 256, .heads = 4},
    {.name = "bert_mini_lora", .network = "bert", .batch = 32, .training = true, .length = 128,
     .layers = 4, .hidden = 256, .heads = 4, .lora = true},
    {.name = "bert_mini_inference_1", .network = "bert", .batch = 1, .length = 128, .layers = 4,
     .hidden = 256, .heads = 4},
    {.name = "bert_mini_inference_32", .network = "bert", .batch = 32, .length = 128,
     .layers = 4, .hidden = 256, .heads = 4},
    {.name = "minilm_l3", .network = "bert", .batch = 32, .training = true, .length = LONGEST,
     .layers = 3, .hidden = 384, .heads = 12, .sentences = true},
    {.name = "minilm_l3_lora", .network = "bert", .batch = 32, .training = true,
     .length = LONGEST, .layers = 3, .hidden = 384, .heads = 12, .lora = true, .sentences = true},
    {.name = "minilm_l3_inference_1", .network = "bert", .batch = 1, .length = TYPICAL,
     .layers = 3, .hidden = 384, .heads = 12},
    {.name = "minilm_l3_inference_32", .network = "bert", .batch = 32, .length = LONGEST,
     .layers = 3, .hidden = 384, .heads = 12, .sentences = true},
    {.name = "vit_tiny", .network = "vit", .batch = 8, .training = true, .layers = 12,
     .hidden = 192, .heads = 3},
    {.name = "vit_tiny_lora", .network = "vit", .batch = 8, .training = true, .layers = 12,
     .hidden = 192, .heads = 3, .lora = true},
    {.name = "dinov2_small", .network = "dinov2", .batch = 8, .training = true, .layers = 12,
     .hidden = 384, .heads = 6},
    {.name = "dinov2_small_lora", .network = "dinov2", .batch = 8, .training = true,
     .layers = 12, .hidden = 384, .heads = 6, .lora = true}};

static int length_of(const work *w, int i) { return w->sentences ? sentence_lengths[i] : w->length; }

static void build(ft_model *m, const work *w)
{
    ft_network_options o;
    memset(&o, 0, sizeof o);
    if (w->network) {
        if (strcmp(w->network, "mobilenet_v1") == 0) o.width = 0.25f;
        if (strcmp(w->network, "lstm_classifier") == 0) o.layers = 2; /* 2 x 256 behind 128 */
        if (w->heads) {
            o.layers = w->layers;
            o.hidden = w->hidden;
            o.heads = w->heads;
        }
        if (strcmp(w->network, "bert") == 0) { /* as BertForSequenceClassification by default */
            o.prefix = "bert.";
            o.dense_head = true;
            o.classes = 2;
            o.dropout = o.attention_dropout = 0.1f;
        }
        if (strcmp(w->network, "vit") == 0) { /* ViTForImageClassification */
            o.prefix = "vit.";
            o.spelling = "transformers5";
        }
        if (strcmp(w->network, "dinov2") == 0) { /* Dinov2ForImageClassification */
            o.prefix = "dinov2.";
            o.spelling = "transformers5";
            o.mask_token = o.patch_mean = true;
        }
        ft_network(m, w->network, o);
        if (w->lora) ft_lora(m, NULL, (ft_lora_options){.rank = 8});
    } else {
        ft_input_options pixels = {.size = {784}}, labels = {.type = FT_I32};
        ft_linear_options linear = {0};
        ft_activation_options none = {0};
        ft_loss_options loss = {0};
        ft_node x = ft_input(m, "input", pixels);
        x = ft_activation(m, "relu", "relu", ft_linear(m, "fc1", x, 128, linear), none);
        x = ft_linear(m, "fc2", x, 10, linear);
        ft_set_output(m, x);
        ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", labels), loss));
    }
    if (w->length) ft_set_length(m, w->length);
    if (w->freeze) ft_freeze(m, w->freeze);
    if (w->unfreeze) {
        ft_unfreeze(m, w->unfreeze);
        ft_unfreeze(m, "fc.*");
    }
}

static float *random_numbers(size_t count)
{
    float *numbers = (float *)malloc(count * sizeof *numbers);
    unsigned state = 1;
    size_t i;
    if (!numbers) exit(1);
    for (i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        numbers[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    return numbers;
}

/* The bits of token ids, where numbers are expected; as bench/peers.py makes them. */
static float *some_tokens(size_t count, int words)
{
    float *numbers = random_numbers(count);
    size_t i;
    for (i = 0; i < count; ++i) {
        int32_t id = (int32_t)((i * 7919 + 13) % (size_t)words);
        memcpy(&numbers[i], &id, sizeof id);
    }
    return numbers;
}

/* What the first step took is not counted, as in bench/peers.py: there memory comes into being (7 of
   ResNet-18's 7.5 ms for fc). */
static void forget_operators(ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i) memset(&m->nodes[i].time, 0, sizeof m->nodes[i].time);
}

/* ---- The processor's peak: fused multiply-adds that wait for nothing but each other ---- */
enum { PEAK_STEPS = 2000000 };

/* `sums` independent ones in registers, as many as the level has room for. */
#define PEAK(name, attributes, type, sums)                                                        \
    attributes static float name(float x)                                                         \
    {                                                                                             \
        FT__FUSED                                                                                 \
        type##_vector sum[sums], zero = {0}, factor = zero + x, add = zero + 1;                   \
        float first = 0;                                                                          \
        int i, j;                                                                                 \
        FT__UNROLL for (j = 0; j < sums; ++j) sum[j] = zero + (float)j; /* all different */       \
        for (i = 0; i < PEAK_STEPS; ++i)                                                          \
            FT__UNROLL for (j = 0; j < sums; ++j) sum[j] = sum[j] * factor + add;                 \
        FT__UNROLL for (j = 0; j < sums; ++j) first += sum[j][0];                                 \
        return first;                                                                             \
    }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif
#ifdef FT__X86
PEAK(peak_sse2, FT__SSE2, ft__tile_sse2, 12)
PEAK(peak_avx2, FT__AVX2, ft__tile_avx2, 12)
PEAK(peak_avx512, FT__AVX512, ft__tile_avx512, 16)
#elif defined(FT__ARM)
PEAK(peak_neon, , ft__tile_neon, 16)
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

typedef struct peak_run { int level; volatile float result[64]; } peak_run;

static void peak_body(void *context, int index)
{
    peak_run *run = (peak_run *)context;
    volatile float *result = &run->result[index]; /* so that the work is done */
    int level = run->level;
#ifdef FT__X86
    if (level == FT__SIMD_SSE2) *result = peak_sse2(0.5f);
    if (level == FT__SIMD_AVX2) *result = peak_avx2(0.5f);
    if (level == FT__SIMD_AVX512) *result = peak_avx512(0.5f);
#elif defined(FT__ARM)
    if (level == FT__SIMD_NEON) *result = peak_neon(0.5f);
#endif
    (void)level;
    (void)result;
}

/* GFLOP/s in float32 of all threads together: the best of five; 0 without SIMD. */
static double measured_peak(ft_model *m)
{
    ft__context *c = &m->context;
    double lanes[FT__SIMD_COUNT] = {0, 4 * 12, 8 * 12, 16 * 16, 4 * 16}, most = 0;
    int threads = c->threads < ft__processors() ? c->threads : ft__processors(), i;
    peak_run run;
    run.level = c->simd;
    for (i = 0; i < 5; ++i) {
        double start = now(NULL), rate;
        ft__parallel(c, threads, peak_body, &run);
        rate = 2e-9 * lanes[c->simd] * PEAK_STEPS * threads / (now(NULL) - start);
        if (rate > most) most = rate;
    }
    return most;
}

/* Each thread copies its part of an array that no cache holds. */
enum { COPIED = 128 << 20 };
typedef struct copy_run { char *from, *to; size_t each; } copy_run;

static void copy_body(void *context, int index)
{
    const copy_run *run = (const copy_run *)context;
    size_t at = (size_t)index * run->each;
    memcpy(run->to + at, run->from + at, run->each);
}

/* GB/s that all threads together read and write while they copy: the best of eight. */
static double measured_bandwidth(ft_model *m)
{
    ft__context *c = &m->context;
    int threads = c->threads < ft__processors() ? c->threads : ft__processors(), i;
    copy_run run = {(char *)malloc(COPIED), (char *)malloc(COPIED), COPIED / (size_t)threads};
    double most = 0;
    if (!run.from || !run.to) exit(1);
    memset(run.from, 1, COPIED); /* pages that were never written share one page of zeros */
    memset(run.to, 2, COPIED);
    for (i = 0; i < 8; ++i) {
        double start = now(NULL), rate;
        ft__parallel(c, threads, copy_body, &run);
        rate = 2e-9 * (double)run.each * threads / (now(NULL) - start);
        if (rate > most) most = rate;
    }
    free(run.from);
    free(run.to);
    return most;
}

/* What a step of a batch costs at a node, forward and backward, at the least.
   Products: each once forward, and again for the gradients of a trained weight and of an input with
   something trained before it.
   Numbers of 4 bytes: forward reads each input and writes the output. Backward reads the output's
   gradient and writes those of the inputs that have one; products and norms read their inputs too. */
typedef struct cost { double gflop[2], mb[2]; } cost;

enum { MOST_NODES = 4096 };
static cost costs[MOST_NODES]; /* by id */

static double floor_seconds(const cost *of, int pass, double peak, double bandwidth)
{
    double products = peak > 0 ? of->gflop[pass] / peak : 0;
    double bytes = 1e-3 * of->mb[pass] / bandwidth;
    return products > bytes ? products : bytes;
}

/* Fills `costs`. Returns the GFLOP of one sample's step. */
static double find_costs(ft_model *m, bool training, int batch)
{
    static bool trained[MOST_NODES];
    double sum = 0;
    int id, i;
    for (id = 1; id <= ft_node_count(m) && id < MOST_NODES; ++id) {
        ft_node handle = {id};
        const ft__node *node = ft__get_node(m, handle);
        ft__costs one = ft__costs_of(m, node, ft__extent_of(m, 1), training);
        double each = 2e-9 * (double)one.multiply_adds, mb = 0;
        double own = 4e-6 * (double)ft__node_count_at(node, ft__extent_of(m, batch));
        cost *of = &costs[id];
        memset(of, 0, sizeof *of);
        trained[id] = training && node->gradient != NULL;
        for (i = 0; i < node->input_count; ++i) {
            ft_node input = {node->inputs[i]};
            double size = 4e-6 * (double)ft__node_count_at(ft__get_node(m, input),
                                                           ft__extent_of(m, batch));
            mb += size;
            if (!trained[input.id]) continue;
            if (i < 2) of->gflop[1] += each * batch; /* the third, a bias, takes no products */
            of->mb[1] += size;
            trained[id] = true;
        }
        of->gflop[0] = each * batch;
        of->mb[0] = node->input_count ? mb + own : 0;
        if (trained[id] && node->input_count) {
            of->mb[1] += own;
            if (each > 0 || strstr(ft_node_operator(m, handle), "norm")) of->mb[1] += mb;
        }
        sum += of->gflop[0] + of->gflop[1];
    }
    return sum / batch;
}

static void print_operators(ft_model *m, double steps, double peak)
{
    double bandwidth = measured_bandwidth(m);
    int id;
    fprintf(stderr, "{\"peak\": %.0f, \"bandwidth\": %.1f}\n", peak, bandwidth);
    fprintf(stderr, "  forward    floor backward    floor    GFLOP       MB  operator\n");
    for (id = 1; id <= ft_node_count(m) && id < MOST_NODES; ++id) {
        ft_node node = {id};
        ft_time t = ft_node_time(m, node);
        const cost *of = &costs[id];
        if (t.forward + t.backward > 0)
            fprintf(stderr, "%9.3f %8.3f %8.3f %8.3f %8.3f %8.3f  %-16s %s\n",
                    1e3 * t.forward / steps, 1e3 * floor_seconds(of, 0, peak, bandwidth),
                    1e3 * t.backward / steps, 1e3 * floor_seconds(of, 1, peak, bandwidth),
                    of->gflop[0] + of->gflop[1], of->mb[0] + of->mb[1], ft_node_operator(m, node),
                    ft_node_name(m, node));
    }
}

/* What is repeated: a step of a network, or a product out [rows, columns] = a [rows, k] b [k, columns]. */
typedef struct job {
    ft_model *m;
    const char *name;
    double each;                /* samples, or GFLOP, of one step */
    double gflop, peak;         /* of one of these; of the processor, a second */
    const work *w;              /* NULL: a product */
    float *values, *logits;
    int *labels;                /* and lengths behind them */
    size_t rows, columns, k;
    float *a, *b, *out, *workspace;
    int steps;
} job;

/* The output for a batch; its lengths stand behind its labels. */
static void run(ft_model *m, const work *w, const float *values, const int *labels, float *logits)
{
    ft_node lengths = ft_find(m, "lengths");
    ft_feed(m, ft_find(m, w->length ? "tokens" : "input"), values, w->batch);
    if (lengths.id) ft_feed(m, lengths, labels + w->batch, w->batch);
    ft_forward(m, false);
    ft_get(m, ft_output(m), logits,
           ft__node_count_at(ft__get_node(m, ft_output(m)), ft__extent_of(m, w->batch)));
}

/* What a training loop does, or a prediction. */
static void step(job *j)
{
    const work *w = j->w;
    ft_model *m = j->m;
    j->steps += 1;
    if (!w) {
        ft__gemm_parallel(&m->context, j->rows, j->columns, j->k, ft__rows_of(j->a, j->k),
                          ft__rows_of(j->b, j->columns), j->out, j->columns, false, j->workspace);
    } else if (!w->training) {
        run(m, w, j->values, j->labels, j->logits);
        if (w->length == 1) { /* the most probable character is the next input */
            int32_t next = ft__argmax(j->logits, ft_node_shape(m, ft_output(m)).size[2]);
            memcpy(j->values, &next, sizeof next);
        }
    } else {
        ft_feed(m, ft_find(m, w->length ? "tokens" : "input"), j->values, w->batch);
        if (w->length) ft_feed(m, ft_find(m, "lengths"), j->labels + w->batch, w->batch);
        ft_feed(m, ft_find(m, "labels"), j->labels, w->batch);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-4f);
    }
}

/* Works for so many seconds and prints how much that was. */
static void slice(job *j, double seconds, double first)
{
    struct rusage usage;
    double start = now(NULL), took, peak;
    int before = j->steps;
    do {
        step(j);
        took = now(NULL) - start;
    } while (took < seconds);
    peak = measured_peak(j->m); /* the best of all slices: others may have been at work */
    if (peak > j->peak) j->peak = peak;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"work\": \"%s\", \"per_second\": %.2f, \"resident_mb\": %.0f, \"first_step\": %.4f,"
           " \"peak\": %.0f, \"of_peak\": %.3f}\n",
           j->name, (j->steps - before) * j->each / took, (double)usage.ru_maxrss / 1024, first,
           j->peak, j->peak > 0 ? (j->steps - before) * j->each / took * j->gflop / j->peak : 0);
    fflush(stdout);
}

static bool prepare_product(job *j)
{
    sscanf(j->name, "gemm_%zu_%zu_%zu", &j->rows, &j->columns, &j->k);
    if (j->rows * j->columns * j->k == 0) return false;
    j->a = random_numbers(j->rows * j->k);
    j->b = random_numbers(j->k * j->columns);
    j->out = random_numbers(j->rows * j->columns);
    j->workspace = random_numbers(ft__gemm_workspace(&j->m->context, j->k));
    j->each = 2e-9 * (double)(j->rows * j->columns * j->k);
    return true;
}

/* Numbers of one sample of the input. */
static size_t sample_size(ft_model *m, const work *w)
{
    ft_shape shape = ft_node_shape(m, ft_find(m, w->length ? "tokens" : "input"));
    size_t count = 1;
    int i;
    for (i = 1; i < shape.rank; ++i)
        count *= (size_t)(shape.size[i] == FT_LENGTH ? w->length : shape.size[i]);
    return count;
}

static void prepare_network(job *j)
{
    const work *w = j->w;
    size_t batch = (size_t)w->batch, sample = sample_size(j->m, w), i;
    j->values = w->length ? some_tokens(sample * batch, 65) : random_numbers(sample * batch);
    j->logits = random_numbers(1000 * batch);
    j->labels = (int *)calloc(2 * batch, sizeof *j->labels);
    if (!j->labels) exit(1);
    for (i = 0; i < batch; ++i) {
        j->labels[i] = (int)i % (w->length ? 2 : 10);
        j->labels[batch + i] = length_of(w, (int)i);
    }
    j->each = w->batch;
}

static float *read_numbers(const char *directory, const char *name, size_t count)
{
    char path[700];
    float *numbers = random_numbers(count);
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "rb");
    if (!file || fread(numbers, sizeof *numbers, count, file) != count) {
        fprintf(stderr, "%s: wants %zu numbers\n", path, count);
        exit(1);
    }
    fclose(file);
    return numbers;
}

/* How far the logits are from the other library's, as a share of the largest. */
static int compare(ft_model *m, const work *w, const char *directory, size_t sample)
{
    ft_weights_options strict = {0};
    ft_merge_options merge = {0};
    ft_shape shape;
    char path[700];
    size_t i, count;
    float *input, *want, *got;
    int *labels;
    double worst = 0, largest = 0;
    if (w->lora) ft_merge(m, merge); /* B is zero: the base, whose weights the file has */
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    ft_load_weights(m, path, strict);
    shape = ft_node_shape(m, ft_output(m));
    count = (size_t)shape.size[shape.rank - 1] * (size_t)w->batch;
    input = read_numbers(directory, "input.bin", sample * (size_t)w->batch);
    want = read_numbers(directory, "logits.bin", count);
    got = random_numbers(count);
    labels = (int *)calloc(2 * (size_t)w->batch, sizeof *labels);
    if (!labels) exit(1);
    for (i = 0; i < (size_t)w->batch; ++i) labels[(size_t)w->batch + i] = length_of(w, (int)i);
    run(m, w, input, labels, got);
    free(labels);
    for (i = 0; i < count; ++i) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= worst)) worst = off;
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    }
    if (ft_error(m) != FT_OK) fprintf(stderr, "%s\n", ft_error_text(m));
    else printf("{\"work\": \"%s\", \"off\": %g}\n", w->name, worst / largest);
    free(input);
    free(want);
    free(got);
    return ft_error(m) != FT_OK;
}

int main(int argc, char **argv)
{
    double seconds = 3, first, begin = now(NULL);
    const char *check = NULL;
    ft_desc desc = {0};
    ft_optimizer_options adam = {.optimizer = FT_ADAM, .learning_rate = 1e-4f};
    bool operators = false, slices = false, machine = false, failed;
    job j = {0};
    int i;
    for (i = 1; i < argc; ++i) {
        size_t known;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) desc.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--simd") == 0 && i + 1 < argc) desc.simd = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && i + 1 < argc) desc.precision = argv[++i];
        else if (strcmp(argv[i], "--check") == 0 && i + 1 < argc) check = argv[++i];
        else if (strcmp(argv[i], "--operators") == 0) operators = true;
        else if (strcmp(argv[i], "--slices") == 0) slices = true;
        else if (strcmp(argv[i], "machine") == 0) machine = true;
        else if (strncmp(argv[i], "gemm_", 5) == 0) j.name = argv[i];
        else if (argv[i][0] >= '0' && argv[i][0] <= '9') seconds = atof(argv[i]);
        for (known = 0; known < sizeof works / sizeof *works; ++known)
            if (strcmp(argv[i], works[known].name) == 0) j.w = &works[known];
    }
    if (machine) {
        j.m = ft_create(desc);
        printf("{\"peak\": %.0f, \"bandwidth\": %.1f}\n", measured_peak(j.m),
               measured_bandwidth(j.m));
        ft_destroy(j.m);
        return 0;
    }
    if (j.w) j.name = j.w->name;
    if (!j.name) {
        fprintf(stderr, "usage: bench WORK|machine [SECONDS] [--slices] [--threads N] [--simd LEVEL]"
                        " [--operators] [--check DIRECTORY]\n");
        return 2;
    }
    if (j.w && !desc.precision) desc.precision = j.w->precision;
    if (operators) desc.clock = now;
    j.m = ft_create(desc);
    if (j.w) {
        build(j.m, j.w);
        if (j.w->training) ft_set_optimizer(j.m, adam);
        if (check) {
            failed = compare(j.m, j.w, check, sample_size(j.m, j.w)) != 0;
            ft_destroy(j.m);
            return failed;
        }
        prepare_network(&j);
    } else if (!prepare_product(&j)) {
        return 2;
    }
    step(&j);
    first = now(NULL) - begin;
    if (operators) forget_operators(j.m);
    j.gflop = j.w ? find_costs(j.m, j.w->training, j.w->batch) : 1;
    if (slices) {
        char line[64];
        while (fgets(line, sizeof line, stdin)) slice(&j, atof(line), first);
    } else {
        slice(&j, seconds, first);
    }
    failed = ft_error(j.m) != FT_OK;
    if (failed) fprintf(stderr, "%s\n", ft_error_text(j.m));
    if (operators) print_operators(j.m, j.steps - 1, j.peak);
    ft_destroy(j.m);
    free(j.values);
    free(j.logits);
    free(j.labels);
    free(j.a);
    free(j.b);
    free(j.out);
    free(j.workspace);
    return failed;
}
