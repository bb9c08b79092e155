/* test_levels.c - layers of many shapes at every SIMD level that the CPU has, forward, backward,
   updated and in inference form, against the plain loops. It uses public functions only, and an
   allocator whose blocks end exactly at their size: under AddressSanitizer
   (tests/test_sanitizers.sh) no kernel reads or writes a byte after them.

   Plain loops and vectors differ by rounding: 2e-4 of the largest number of an array is allowed;
   the largest difference seen is 3e-5. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include "check.h"
#include "finetune.h"

enum { MOST = 1 << 18 };

static void *allocate(void *user, size_t bytes, size_t alignment)
{
    void *block = NULL;
    (void)user;
    return posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

static void release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}

typedef enum shape_kind { PICTURE, ROWS, SEQUENCE } shape_kind;

typedef struct layer_case {
    const char *layer;
    shape_kind kind;
    int channels, height, width; /* of the input; of a sequence: features, -, steps */
    int out, kernel, stride, padding, dilation, groups;
} layer_case;

static const layer_case cases[] = {
    /* Matrix products: every remainder of a tile's rows and columns. */
    {"linear", ROWS, 1, 0, 0, 1, 0, 0, 0, 0, 0}, {"linear", ROWS, 3, 0, 0, 5, 0, 0, 0, 0, 0},
    {"linear", ROWS, 17, 0, 0, 31, 0, 0, 0, 0, 0}, {"linear", ROWS, 64, 0, 0, 33, 0, 0, 0, 0, 0},
    {"linear", ROWS, 130, 0, 0, 70, 0, 0, 0, 0, 0}, {"linear", ROWS, 515, 0, 0, 9, 0, 0, 0, 0, 0},
    /* Convolutions: plain, of few channels, strided, dilated, with groups. */
    {"conv2d", PICTURE, 3, 9, 7, 5, 3, 1, 1, 1, 1}, {"conv2d", PICTURE, 3, 12, 12, 16, 7, 2, 3, 1, 1},
    {"conv2d", PICTURE, 8, 5, 5, 17, 1, 1, 0, 1, 1}, {"conv2d", PICTURE, 33, 6, 5, 20, 1, 2, 0, 1, 1},
    {"conv2d", PICTURE, 16, 9, 9, 24, 3, 2, 1, 1, 1}, {"conv2d", PICTURE, 17, 8, 8, 13, 3, 1, 2, 2, 1},
    {"conv2d", PICTURE, 12, 7, 7, 18, 3, 1, 1, 1, 3}, {"conv2d", PICTURE, 6, 7, 7, 9, 5, 1, 2, 1, 3},
    {"conv2d", PICTURE, 1, 10, 10, 8, 3, 1, 0, 1, 1}, {"conv2d", PICTURE, 32, 13, 11, 40, 5, 1, 2, 1, 1},
    /* Winograd's tiles, whole ones and edges; pictures smaller than the kernel is wide. */
    {"conv2d", PICTURE, 16, 16, 16, 16, 3, 1, 1, 1, 1}, {"conv2d", PICTURE, 32, 7, 9, 48, 3, 1, 1, 1, 1},
    {"conv2d", PICTURE, 48, 14, 14, 32, 3, 1, 1, 1, 1}, {"conv2d", PICTURE, 64, 2, 2, 80, 3, 1, 1, 1, 1},
    {"conv2d", PICTURE, 80, 3, 1, 64, 3, 1, 1, 1, 1}, {"conv2d", PICTURE, 72, 4, 4, 72, 5, 1, 2, 1, 1},
    /* Depthwise, by vectors of channels and what is left of them. */
    {"conv2d", PICTURE, 8, 9, 9, 8, 3, 1, 1, 1, 8}, {"conv2d", PICTURE, 17, 8, 9, 17, 3, 2, 1, 1, 17},
    {"conv2d", PICTURE, 37, 6, 6, 37, 5, 1, 2, 1, 37}, {"conv2d", PICTURE, 5, 7, 7, 5, 3, 1, 1, 2, 5},
    {"conv1d", SEQUENCE, 7, 0, 9, 12, 3, 1, 1, 1, 1}, {"conv1d", SEQUENCE, 16, 0, 11, 16, 5, 1, 2, 1, 1},
    {"batch_norm", PICTURE, 3, 5, 5, 0, 0, 0, 0, 0, 0}, {"batch_norm", PICTURE, 37, 4, 3, 0, 0, 0, 0, 0, 0},
    {"batch_norm", ROWS, 19, 0, 0, 0, 0, 0, 0, 0, 0}, {"batch_norm", PICTURE, 64, 1, 1, 0, 0, 0, 0, 0, 0},
    {"layer_norm", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0}, {"layer_norm", SEQUENCE, 9, 0, 5, 0, 0, 0, 0, 0, 0},
    {"max_pool", PICTURE, 5, 9, 8, 0, 3, 2, 1, 0, 0}, {"max_pool", PICTURE, 19, 7, 7, 0, 2, 2, 0, 0, 0},
    {"avg_pool", PICTURE, 19, 9, 8, 0, 3, 2, 1, 0, 0}, {"global_avg", PICTURE, 21, 5, 3, 0, 0, 0, 0, 0, 0},
    {"lstm", SEQUENCE, 5, 0, 4, 7, 0, 0, 0, 0, 0}, {"lstm", SEQUENCE, 16, 0, 3, 33, 0, 0, 0, 0, 2},
    {"gru", SEQUENCE, 5, 0, 4, 7, 0, 0, 0, 0, 0}, {"gru", SEQUENCE, 16, 0, 3, 33, 0, 0, 0, 0, 2},
    {"gru_reset_before", SEQUENCE, 5, 0, 4, 7, 0, 0, 0, 0, 0},
    {"gru_reset_before", SEQUENCE, 16, 0, 3, 33, 0, 0, 0, 0, 2},
    {"rnn", SEQUENCE, 5, 0, 4, 7, 0, 0, 0, 0, 0}, {"rnn", SEQUENCE, 17, 0, 3, 32, 0, 0, 0, 0, 2},
    {"attention", SEQUENCE, 12, 0, 9, 0, 0, 0, 0, 0, 0},
    {"attention", SEQUENCE, 33, 0, 17, 0, 0, 0, 0, 0, 0},
    {"sigmoid", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0}, {"tanh", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0},
    {"relu", PICTURE, 3, 5, 5, 0, 0, 0, 0, 0, 0}, {"relu6", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0},
    {"gelu", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0}, {"silu", PICTURE, 7, 5, 5, 0, 0, 0, 0, 0, 0},
    {"elu", ROWS, 65, 0, 0, 0, 0, 0, 0, 0, 0}, {"softplus", ROWS, 31, 0, 0, 0, 0, 0, 0, 0, 0},
    {"softmax", ROWS, 37, 0, 0, 0, 0, 0, 0, 0, 0}, {"log_softmax", SEQUENCE, 7, 0, 5, 0, 0, 0, 0, 0, 0}};

static ft_node convolution(ft_model *m, ft_node x, const layer_case *c)
{
    ft_conv2d_options o;
    ft_conv1d_options o1;
    memset(&o, 0, sizeof o);
    memset(&o1, 0, sizeof o1);
    if (strcmp(c->layer, "conv1d") == 0) {
        int axes[3] = {0, 2, 1};
        o1.kernel = c->kernel;
        o1.padding[0] = o1.padding[1] = c->padding;
        return ft_conv1d(m, "layer", ft_permute(m, NULL, x, 3, axes), c->out, o1);
    }
    o.kernel[0] = c->kernel;
    o.stride[0] = c->stride;
    o.padding[0] = o.padding[1] = o.padding[2] = o.padding[3] = c->padding;
    o.dilation[0] = c->dilation;
    o.groups = c->groups;
    return ft_conv2d(m, "layer", x, c->out, o);
}

static ft_node recurrent(ft_model *m, ft_node x, const layer_case *c)
{
    ft_recurrent_options o;
    memset(&o, 0, sizeof o);
    o.layers = c->groups;
    o.bidirectional = c->groups > 1;
    o.reset_before = strcmp(c->layer, "gru_reset_before") == 0;
    return c->layer[0] == 'l' ? ft_lstm(m, "layer", x, c->out, o) : c->layer[0] == 'g'
        ? ft_gru(m, "layer", x, c->out, o) : ft_rnn(m, "layer", x, c->out, o);
}

static ft_node attention(ft_model *m, ft_node x, const layer_case *c)
{
    ft_linear_options linear;
    ft_matmul_options product;
    ft_activation_options none;
    ft_node q, k, v;
    memset(&linear, 0, sizeof linear);
    memset(&product, 0, sizeof product);
    memset(&none, 0, sizeof none);
    q = ft_linear(m, "q", x, c->channels, linear);
    k = ft_linear(m, "k", x, c->channels, linear);
    v = ft_linear(m, "v", x, c->channels, linear);
    product.transpose_b = true;
    q = ft_activation(m, "softmax", NULL, ft_matmul(m, NULL, q, k, product), none);
    product.transpose_b = false;
    return ft_matmul(m, NULL, q, v, product);
}

static ft_node layer(ft_model *m, ft_node x, const layer_case *c)
{
    ft_linear_options linear;
    ft_batch_norm_options batch_norm;
    ft_layer_norm_options layer_norm;
    ft_activation_options activation;
    ft_pool2d_options pool;
    memset(&linear, 0, sizeof linear);
    memset(&batch_norm, 0, sizeof batch_norm);
    memset(&layer_norm, 0, sizeof layer_norm);
    memset(&activation, 0, sizeof activation);
    memset(&pool, 0, sizeof pool);
    pool.kernel[0] = c->kernel;
    pool.stride[0] = c->stride;
    pool.padding[0] = pool.padding[1] = pool.padding[2] = pool.padding[3] = c->padding;
    if (strcmp(c->layer, "linear") == 0) return ft_linear(m, "layer", x, c->out, linear);
    if (strncmp(c->layer, "conv", 4) == 0) return convolution(m, x, c);
    if (strcmp(c->layer, "batch_norm") == 0) return ft_batch_norm(m, "layer", x, batch_norm);
    if (strcmp(c->layer, "layer_norm") == 0) return ft_layer_norm(m, "layer", x, layer_norm);
    if (strcmp(c->layer, "max_pool") == 0) return ft_max_pool2d(m, "layer", x, pool);
    if (strcmp(c->layer, "avg_pool") == 0) return ft_avg_pool2d(m, "layer", x, pool);
    if (strcmp(c->layer, "global_avg") == 0) return ft_global_avg_pool(m, "layer", x);
    if (strcmp(c->layer, "attention") == 0) return attention(m, x, c);
    if (c->kind == SEQUENCE && c->out) return recurrent(m, x, c);
    return ft_activation(m, c->layer, "layer", x, activation);
}

/* A trained layer in front, so that the layer's input has a gradient, and a mean squared error. */
static ft_node build(ft_model *m, const layer_case *c)
{
    ft_input_options in;
    ft_linear_options linear;
    ft_conv2d_options conv;
    ft_node x, y;
    ft_shape shape;
    int d;
    memset(&in, 0, sizeof in);
    memset(&linear, 0, sizeof linear);
    memset(&conv, 0, sizeof conv);
    conv.kernel[0] = 1;
    if (c->kind == PICTURE) {
        in.size[0] = 4;
        in.size[1] = c->height;
        in.size[2] = c->width;
        x = ft_conv2d(m, "first", ft_input(m, "input", in), c->channels, conv);
    } else {
        in.size[0] = c->kind == SEQUENCE ? c->width : 4;
        in.size[1] = c->kind == SEQUENCE ? 4 : 0;
        x = ft_linear(m, "first", ft_input(m, "input", in), c->channels, linear);
    }
    y = layer(m, x, c);
    memset(&in, 0, sizeof in);
    shape = ft_node_shape(m, y);
    for (d = 1; d < shape.rank; ++d) in.size[d - 1] = shape.size[d];
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, ft_input(m, "target", in)));
    return y;
}

/* What one level computes of a case, one array behind the other. */
typedef struct results { float *at; size_t count, parts[64]; int part_count; } results;

static float *part(results *r, size_t count)
{
    float *at = r->at + r->count;
    if (r->count + count > MOST || r->part_count == 64) {
        printf("test_levels: MOST is too small\n");
        exit(1);
    }
    r->count += count;
    r->parts[r->part_count++] = count;
    return at;
}

static size_t count_of(const ft_model *m, ft_node node, int batch)
{
    ft_shape shape = ft_node_shape(m, node);
    size_t count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d) count *= (size_t)(shape.size[d] == FT_BATCH ? batch : shape.size[d]);
    return count;
}

/* Of nodes that count as weights: the values, or the gradients. */
static void weights(ft_model *m, results *r, bool gradients)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        size_t count = count_of(m, node, 1);
        if (strcmp(ft_node_operator(m, node), "parameter") != 0) continue;
        if (gradients) ft_get_gradient(m, node, part(r, count), count);
        else ft_get(m, node, part(r, count), count);
    }
}

static bool compute(const layer_case *c, const char *level, const char *precision, int batch, results *r)
{
    static float values[MOST], targets[MOST];
    ft_desc desc;
    ft_optimizer_options optimizer;
    ft_model *m;
    ft_node input, target, output;
    size_t i, count;
    memset(&desc, 0, sizeof desc);
    desc.simd = level;
    desc.precision = precision;
    desc.threads = 2;
    desc.allocator.allocate = allocate;
    desc.allocator.release = release;
    r->count = 0;
    r->part_count = 0;
    for (i = 0; i < MOST; ++i) {
        values[i] = (float)(i * 2654435761u % 1009) / 504.0f - 1.0f;
        targets[i] = (float)(i * 40503u % 997) / 498.0f - 1.0f;
    }
    m = ft_create(desc);
    if (ft_error(m) == FT_UNSUPPORTED || ft_error(m) == FT_INVALID) { /* the processor lacks it */
        ft_destroy(m);
        return false;
    }
    output = build(m, c);
    input = ft_find(m, "input");
    target = ft_find(m, "target");
    memset(&optimizer, 0, sizeof optimizer);
    optimizer.weight_decay = 0.01f;
    /* A bias before batch norm has no gradient but rounding, which Adam makes a full step of. */
    if (strcmp(c->layer, "batch_norm") == 0) optimizer.optimizer = FT_SGD;
    ft_set_optimizer(m, optimizer);
    count = count_of(m, output, batch);
    ft_run(m, values, batch, part(r, count), count);
    ft_feed(m, input, values, batch);
    ft_feed(m, target, targets, batch);
    ft_forward(m, true);
    ft_get(m, output, part(r, count), count);
    ft_backward(m);
    weights(m, r, true);
    ft_update(m, 1e-2f);
    count = count_of(m, output, batch - 1);
    if (batch > 1) ft_run(m, values, batch - 1, part(r, count), count);
    CHECK(ft_error(m) == FT_OK, "%s at %s: %s", c->layer, level, ft_error_text(m));
    ft_destroy(m);
    return true;
}

static double compare(const results *got, const results *want, double tolerance, const char *what)
{
    double worst = 0;
    size_t at = 0, i;
    int p;
    CHECK(got->part_count == want->part_count && got->count == want->count, "%s: other arrays", what);
    for (p = 0; p < want->part_count; at += want->parts[p], ++p) {
        double largest = 1e-2, apart = 0;
        for (i = at; i < at + want->parts[p]; ++i) {
            double difference = fabs((double)got->at[i] - (double)want->at[i]);
            if (fabs((double)want->at[i]) > largest) largest = fabs((double)want->at[i]);
            apart = worse(apart, difference);
        }
        CHECK(apart <= tolerance * largest, "%s: array %d is off by %g of %g", what, p, apart, largest);
        if (apart / largest > worst) worst = apart / largest;
    }
    return worst;
}

/* Recurrent layers take rows of the input, steps times samples, in blocks of 126 or 128, as the level's
   tile has it: one row less than a block, just as many, and one more give each sample the bits that it
   has alone. */
static void test_row_blocks(const char *level)
{
    enum { IN = 3, H = 4, MOST_SAMPLES = 130 };
    static const int counts[] = {63, 64, 119, 120, 121, 125, 126, 127, 128, 129};
    static float x[MOST_SAMPLES * IN], alone[MOST_SAMPLES * H], y[MOST_SAMPLES * H];
    static ft_node (*const makers[])(ft_model *, const char *, ft_node, int, ft_recurrent_options) = {
        ft_lstm, ft_gru, ft_rnn, ft_gru};
    size_t k, i;
    for (i = 0; i < MOST_SAMPLES * IN; ++i) x[i] = (float)(i * 31 % 17) / 8 - 1;
    for (k = 0; k < 4; ++k) {
        ft_desc desc;
        ft_input_options in;
        ft_recurrent_options options;
        ft_model *m;
        memset(&desc, 0, sizeof desc);
        memset(&in, 0, sizeof in);
        memset(&options, 0, sizeof options);
        options.reset_before = k == 3;
        desc.simd = level;
        desc.threads = 1;
        desc.allocator.allocate = allocate;
        desc.allocator.release = release;
        in.size[0] = FT_LENGTH;
        in.size[1] = IN;
        m = ft_create(desc);
        ft_set_output(m, makers[k](m, "layer", ft_input(m, "input", in), H, options));
        ft_set_length(m, 1);
        for (i = 0; i < MOST_SAMPLES; ++i) ft_run(m, x + i * IN, 1, alone + i * H, H);
        for (i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
            size_t numbers = (size_t)counts[i] * H;
            memset(y, 0, sizeof y);
            ft_run(m, x, counts[i], y, numbers);
            CHECK(!memcmp(y, alone, numbers * sizeof *y), "layer %d at %s: %d samples", (int)k, level,
                  counts[i]);
        }
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

int main(void)
{
    static const char *const levels[] = {"sse2", "avx2", "avx512", "neon"};
    static float plain[MOST], vectors[MOST];
    results want = {plain, 0, {0}, 0}, got = {vectors, 0, {0}, 0};
    double worst = 0;
    size_t i, l;
    int batch, found = 0, first = getenv("FINETUNE_QUICK") ? 6 : 1; /* quick: of two sizes one */
    char what[100];
    for (l = 0; l < sizeof levels / sizeof levels[0]; ++l) {
        if (!compute(&cases[0], levels[l], NULL, 1, &got)) continue;
        ++found;
        test_row_blocks(levels[l]);
        for (i = 0; i < sizeof cases / sizeof cases[0]; ++i)
            for (batch = first; batch <= 6; batch += 5) {
                double apart;
                if (batch == 1 && strcmp(cases[i].layer, "batch_norm") == 0) continue;
                compute(&cases[i], "none", NULL, batch, &want);
                compute(&cases[i], levels[l], NULL, batch, &got);
                snprintf(what, sizeof what, "%s (case %d) at %s, batch %d", cases[i].layer, (int)i,
                         levels[l], batch);
                apart = compare(&got, &want, 2e-4, what);
                if (apart > worst) worst = apart;
            }
    }
    test_row_blocks("none");
    if (!found) SKIP("no vector instructions here, or a build without them");
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) /* bf16 by instructions, and without */
        if (strcmp(cases[i].layer, "conv2d") == 0 || strcmp(cases[i].layer, "linear") == 0) {
            if (!compute(&cases[i], NULL, "bf16", 6, &got)) {
                SKIP("the processor lacks AVX512_BF16");
                break;
            }
            compute(&cases[i], NULL, "bf16_emulated", 6, &want);
            snprintf(what, sizeof what, "%s (case %d) in bf16", cases[i].layer, (int)i);
            compare(&got, &want, 2e-2, what);
        }
    printf("largest difference: %.2g\n", worst);
    return check_done("test_levels");
}
