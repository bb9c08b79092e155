/* test_transformer.c - networks of attention, norms and positions: results, gradients and ten steps of
   AdamW as PyTorch's (tests/golden/make_transformer.py); the bits of a text alone and in a padded
   batch, and of a causal network's steps whatever follows; memory linear in length; the loss by
   chunks of labels against whole logits; sinusoidal positions. */
#include "check.h"
#include "finetune.h"
#include "public.h"
#include "formula.h"
#include "goldens.h"

enum { D = 16, BATCH = 4, STEPS = 9 };

static const int lengths[BATCH] = {5, 1, 9, 7};

static ft_node linear(ft_model *m, const char *name, ft_node x, int out)
{
    return ft_linear(m, name, x, out, (ft_linear_options){0});
}

static ft_node plain(ft_model *m, const char *name, ft_node x, int out)
{
    return ft_linear(m, name, x, out, (ft_linear_options){.no_bias = true});
}

static ft_node activation(ft_model *m, const char *kind, ft_node x)
{
    return ft_activation(m, kind, NULL, x, (ft_activation_options){0});
}

/* Norms after, lengths, classification of the mean of the real steps. */
static ft_model *bert(ft_desc desc)
{
    ft_model *m = ft_create(desc);
    ft_layer_norm_options norm = {.eps = 1e-12f};
    ft_node tokens = ft_input(m, "tokens", (ft_input_options){.size = {FT_LENGTH}, .type = FT_I32});
    ft_node real = ft_input(m, "lengths", (ft_input_options){.type = FT_I32}), x, y;
    x = ft_embedding(m, "embed", tokens, 11, D, (ft_embedding_options){0});
    x = ft_add_positions(m, "positions", x, 12, (ft_add_positions_options){0});
    x = ft_layer_norm(m, "norm0", x, norm);
    y = ft_attention(m, "attention", linear(m, "q", x, D), linear(m, "k", x, D), linear(m, "v", x, D),
                     (ft_attention_options){.heads = 4, .lengths = real});
    x = ft_layer_norm(m, "norm1", ft_add(m, NULL, x, linear(m, "out", y, D)), norm);
    y = linear(m, "fc2", activation(m, "gelu", linear(m, "fc1", x, 24)), D);
    x = ft_layer_norm(m, "norm2", ft_add(m, NULL, x, y), norm);
    x = ft_step_pool(m, "pool", x, real, (ft_step_pool_options){.kind = FT_POOL_MEAN});
    x = linear(m, "head", x, 3);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){
        .type = FT_I32}), (ft_loss_options){0}));
    return m;
}

/* Norms before, rotary positions, shared heads of keys and values, a causal loss on the embedding. */
static ft_model *llama(ft_desc desc)
{
    ft_model *m = ft_create(desc);
    ft_rms_norm_options norm = {.eps = 1e-5f};
    ft_node tokens = ft_input(m, "tokens", (ft_input_options){.size = {FT_LENGTH}, .type = FT_I32});
    ft_node x = ft_embedding(m, "embed", tokens, 13, D, (ft_embedding_options){0}), h, q, k;
    h = ft_rms_norm(m, "norm1", x, norm);
    q = ft_rotary(m, NULL, plain(m, "q", h, D), (ft_rotary_options){.heads = 4});
    k = ft_rotary(m, NULL, plain(m, "k", h, D / 2), (ft_rotary_options){.heads = 2});
    h = ft_attention(m, "attention", q, k, plain(m, "v", h, D / 2), (ft_attention_options){
        .heads = 4, .key_value_heads = 2, .causal = true});
    x = ft_add(m, NULL, x, plain(m, "out", h, D));
    h = ft_rms_norm(m, "norm2", x, norm);
    h = ft_mul(m, NULL, activation(m, "silu", plain(m, "gate", h, 24)), plain(m, "up", h, 24));
    x = ft_rms_norm(m, "norm", ft_add(m, NULL, x, plain(m, "down", h, D)), norm);
    ft_set_output(m, x);
    ft_set_loss(m, ft_linear_cross_entropy(m, "loss", x, ft_find(m, "embed.weight"), (ft_node){0},
                                           ft_input(m, "labels", (ft_input_options){
                                               .size = {FT_LENGTH}, .type = FT_I32}),
                                           (ft_loss_options){0}));
    return m;
}

/* Compares with a golden; numbers below 1e-3 count as rounding: the gradient of k.bias is zero. */
static void compare(ft_file *file, const char *net, const char *key, const float *got, double tolerance)
{
    char name[128];
    int index;
    size_t count = 1, i;
    float *want;
    double largest = 1e-3;
    ft_tensor_info info;
    snprintf(name, sizeof name, "%s/%s", net, key);
    index = ft_file_find(file, name);
    info = ft_file_tensor(file, index);
    for (i = 0; i < (size_t)info.shape.rank; ++i) count *= (size_t)info.shape.size[i];
    want = (float *)calloc(count, sizeof *want);
    if (!want || index < 0) exit(1);
    ft_file_read_f32(file, index, want, count);
    for (i = 0; i < count; ++i)
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    for (i = 0; i < count; ++i)
        if (!CLOSE(got[i], want[i], tolerance * largest)) break;
    CHECK(i == count, "%s: [%d] is %.9g, PyTorch has %.9g", name, (int)i, (double)got[i],
          (double)want[i]);
    free(want);
}

static void set_by_formula(ft_model *m, const char *net)
{
    int i;
    for (i = 1; i <= ft_node_count(m); ++i) {
        ft_node node = {i};
        const char *name = ft_node_name(m, node);
        size_t count = numbers_of(m, node);
        char text[128];
        float *values;
        bool norm = strstr(name, "norm") && strstr(name, "weight");
        if (strcmp(ft_node_operator(m, node), "parameter") != 0) continue;
        values = (float *)calloc(count, sizeof *values);
        if (!values) exit(1);
        snprintf(text, sizeof text, "%s.%s", net, name);
        by_formula(text, values, count, norm ? 0.5 : -0.6, norm ? 1.5 : 0.6);
        ft_set(m, node, values, count);
        free(values);
    }
}

static void compare_gradients(ft_model *m, ft_file *file, const char *net)
{
    int i;
    for (i = 1; i <= ft_node_count(m); ++i) {
        ft_node node = {i};
        float values[24 * D];
        char key[128];
        if (strcmp(ft_node_operator(m, node), "parameter") != 0) continue;
        ft_get_gradient(m, node, values, numbers_of(m, node));
        snprintf(key, sizeof key, "grad/%s", ft_node_name(m, node));
        compare(file, net, key, values, 1e-4);
    }
}

/* The words of all texts, and labels: of texts, or the next words. */
static void make_words(const char *net, int32_t tokens[BATCH * STEPS], int32_t *labels)
{
    static const int32_t classes[BATCH] = {2, 0, 1, 1};
    bool language = strcmp(net, "llama") == 0;
    int wide = STEPS + language, n, t;
    float values[BATCH * (STEPS + 1)];
    char name[64];
    snprintf(name, sizeof name, "%s.tokens", net);
    by_formula(name, values, (size_t)(BATCH * wide), 0, 1);
    for (n = 0; n < BATCH; ++n)
        for (t = 0; t < STEPS; ++t) {
            float next = values[n * wide + (t + 1 < wide ? t + 1 : t)];
            tokens[n * STEPS + t] = (int32_t)(values[n * wide + t] * (float)(language ? 13 : 11));
            if (language) labels[n * STEPS + t] = n == 0 && t < 3 ? -100 : (int32_t)(next * 13);
        }
    if (!language) memcpy(labels, classes, sizeof classes);
}

static void test_network(const char *net, const char *simd, int threads)
{
    ft_desc desc = {.threads = threads, .simd = simd};
    bool language = strcmp(net, "llama") == 0;
    ft_model *m = language ? llama(desc) : bert(desc);
    ft_file *file = open_golden(m, "transformer");
    int32_t tokens[BATCH * STEPS], labels[BATCH * STEPS];
    float y[BATCH * STEPS * D], losses[10];
    size_t count = language ? BATCH * STEPS * D : BATCH * 3;
    int step;
    make_words(net, tokens, labels);
    set_by_formula(m, net);
    ft_set_length(m, STEPS);
    ft_set_optimizer(m, (ft_optimizer_options){.optimizer = FT_ADAMW, .weight_decay = 0.1f});
    for (step = 0; step < 12; ++step) {
        ft_feed(m, ft_find(m, "tokens"), tokens, BATCH);
        if (!language) ft_feed(m, ft_find(m, "lengths"), lengths, BATCH);
        ft_feed(m, ft_find(m, "labels"), labels, BATCH);
        if (step == 0 || step == 11) {
            ft_forward(m, false);
            ft_get(m, language ? ft_find(m, "norm") : ft_find(m, "head"), y, count);
            compare(file, net, step ? "after" : "y", y, step ? 1e-3 : 1e-5);
            continue;
        }
        losses[step - 1] = ft_forward(m, true);
        ft_backward(m);
        if (step == 1) compare_gradients(m, file, net);
        ft_update(m, 0.01f);
    }
    compare(file, net, "losses", losses, 1e-4);
    CHECK(ft_error(m) == FT_OK, "%s: %s", net, ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
}

/* A text alone gives the bits that it gives in a padded batch, and so do a causal network's first
   steps if others follow. */
static void test_bits(void)
{
    ft_model *m = bert((ft_desc){.threads = 2});
    int32_t tokens[BATCH * STEPS], labels[BATCH * STEPS], some[BATCH * STEPS];
    float all[BATCH * STEPS * D], one[BATCH * STEPS * D];
    int n;
    make_words("bert", tokens, labels);
    set_by_formula(m, "bert");
    ft_set_length(m, STEPS);
    ft_run_lengths(m, tokens, lengths, BATCH, all, BATCH * 3);
    for (n = 0; n < BATCH; ++n) {
        ft_set_length(m, lengths[n]);
        ft_run(m, tokens + n * STEPS, 1, one, 3);
        CHECK(memcmp(one, all + n * 3, 3 * sizeof *one) == 0, "text %d alone has other bits", n);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = llama((ft_desc){.threads = 2});
    make_words("llama", tokens, labels);
    set_by_formula(m, "llama");
    ft_set_length(m, STEPS);
    ft_run(m, tokens, BATCH, all, BATCH * STEPS * D);
    for (n = 0; n < BATCH; ++n) memcpy(some + n * 6, tokens + n * STEPS, 6 * sizeof *some);
    ft_set_length(m, 6);
    ft_run(m, some, BATCH, one, BATCH * 6 * D);
    for (n = 0; n < BATCH; ++n)
        CHECK(memcmp(one + n * 6 * D, all + n * STEPS * D, 6 * D * sizeof *one) == 0,
              "later words change the bits of text %d", n);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Attention by itself: x [N, FT_LENGTH, 8] is q, k and v; trained by what an affine layer makes of it. */
static ft_model *long_model(bool causal, ft_allocator allocator)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .allocator = allocator});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, 8}});
    ft_node real = ft_input(m, "lengths", (ft_input_options){.type = FT_I32}), y;
    ft_attention_options o = {.heads = 2, .causal = causal, .lengths = real};
    y = ft_attention(m, "y", x, x, linear(m, "v", x, 8), o);
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, x));
    return m;
}

static void test_long(bool causal)
{
    static const int32_t real[3] = {700, 530, 0};
    static float x[3 * 700 * 8], y[3 * 700 * 8], one[530 * 8];
    size_t i;
    ft_model *m = long_model(causal, (ft_allocator){0});
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)(i * 7919 % 1000) / 500 - 1;
    ft_set_length(m, 700);
    ft_run_lengths(m, x, real, 3, y, 3 * 700 * 8);
    ft_set_length(m, 530);
    ft_run(m, x + 700 * 8, 1, one, 530 * 8);
    CHECK(memcmp(one, y + 700 * 8, sizeof one) == 0, "a long text alone has other bits");
    for (i = (700 + 530) * 8; i < 3 * 700 * 8 && y[i] == 0; ++i) {}
    CHECK(i == 3 * 700 * 8, "a padded step is %g", (double)y[i]);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A training step takes memory linear in the length, by ft_plan and by what is allocated: 4,096 steps more
   than 2,048 take twice what these take more than 1,024, and no [length, length] matrix is allocated. */
static void test_long_memory(bool causal)
{
    enum { LONGEST = 4096 };
    static float x[LONGEST * 8];
    size_t told[3], taken[3], i;
    int n;
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)(i * 7919 % 1000) / 500 - 1;
    for (n = 0; n < 3; ++n) {
        memory_count memory = {0};
        ft_model *m = long_model(causal, counting(&memory));
        int32_t length = 1024 << n;
        float *before = weight_of(m, ft_find(m, "v.weight")), *after, loss;
        ft_set_length(m, length);
        told[n] = ft_plan(m, 1, true).total;
        ft_feed(m, ft_find(m, "input"), x, 1);
        ft_feed(m, ft_find(m, "lengths"), &length, 1);
        loss = ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-2f);
        after = weight_of(m, ft_find(m, "v.weight"));
        CHECK(ft_error(m) == FT_OK && loss > 0 && memcmp(before, after, 64 * sizeof *after) != 0, "loss %g: %s",
              (double)loss, ft_error_text(m));
        taken[n] = memory.most;
        CHECK(taken[n] < told[n] + told[n] / 20 && told[n] < taken[n] + taken[n] / 20,
              "%d steps: ft_plan told %zu bytes, %zu were taken", (int)length, told[n], taken[n]);
        free(after);
        free(before);
        ft_destroy(m);
    }
    CHECK(told[2] - told[1] < (told[1] - told[0]) * 21 / 10, "1024, 2048 and 4096 steps: ft_plan tells %zu, %zu"
          " and %zu bytes", told[0], told[1], told[2]);
    CHECK(taken[2] - taken[1] < (taken[1] - taken[0]) * 21 / 10, "1024, 2048 and 4096 steps take %zu, %zu and %zu"
          " bytes", taken[0], taken[1], taken[2]);
    CHECK(taken[2] < (size_t)LONGEST * LONGEST * sizeof(float) / 16, "%zu bytes", taken[2]);
}

/* One node as queries, keys and values: its gradient has the same bits with any number of threads. */
static void test_self(void)
{
    enum { WIDE = 8, LENGTH = 150 };
    static float x[LENGTH * WIDE], gradient[2][WIDE * WIDE];
    int way, i;
    for (i = 0; i < LENGTH * WIDE; ++i) x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (way = 0; way < 2; ++way) {
        ft_model *m = ft_create((ft_desc){.threads = way ? 3 : 1, .seed = 3});
        ft_node in = ft_input(m, "input", (ft_input_options){.size = {LENGTH, WIDE}}), h;
        h = linear(m, "hidden", in, WIDE);
        h = ft_attention(m, "y", h, h, h, (ft_attention_options){.heads = 1});
        ft_set_output(m, h);
        ft_set_loss(m, ft_mse(m, "loss", h, in));
        ft_feed(m, in, x, 1);
        ft_forward(m, true);
        ft_backward(m);
        ft_get_gradient(m, ft_find(m, "hidden.weight"), gradient[way], WIDE * WIDE);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    CHECK(memcmp(gradient[0], gradient[1], sizeof gradient[0]) == 0, "3 threads give other bits than 1");
}

/* More labels than are made at a time; some do not count. */
static void test_loss_by_chunks(void)
{
    enum { WORDS = 4000, LABELS = 500, WIDE = 8 };
    static float x[LABELS * WIDE], gradient[2][3][WORDS * WIDE];
    static int32_t labels[LABELS];
    float loss[2];
    int way, i, w;
    for (i = 0; i < LABELS * WIDE; ++i) x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (i = 0; i < LABELS; ++i) labels[i] = i % 7 == 3 ? -100 : i * 53 % WORDS;
    for (way = 0; way < 2; ++way) {
        ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 3});
        ft_node in = ft_input(m, "input", (ft_input_options){.size = {WIDE}}), h, y;
        ft_node t = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
        h = linear(m, "hidden", in, WIDE);
        y = linear(m, "head", h, WORDS);
        ft_set_output(m, h);
        ft_set_loss(m, way == 0 ? ft_cross_entropy(m, "loss", y, t, (ft_loss_options){0})
                                : ft_linear_cross_entropy(m, "loss", h, ft_find(m, "head.weight"),
                                                          ft_find(m, "head.bias"), t,
                                                          (ft_loss_options){0}));
        ft_feed(m, in, x, LABELS);
        ft_feed(m, t, labels, LABELS);
        loss[way] = ft_forward(m, true);
        ft_backward(m);
        ft_get_gradient(m, ft_find(m, "head.weight"), gradient[way][0], WORDS * WIDE);
        ft_get_gradient(m, ft_find(m, "head.bias"), gradient[way][1], WORDS);
        ft_get_gradient(m, ft_find(m, "hidden.weight"), gradient[way][2], WIDE * WIDE);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    CHECK(CLOSE(loss[1], loss[0], 1e-6 * (double)loss[0]), "the loss is %g, not %g", (double)loss[1],
          (double)loss[0]);
    for (w = 0; w < 3; ++w) {
        double largest = 0;
        int bad = 0;
        for (i = 0; i < WORDS * WIDE; ++i) largest = fmax(largest, fabs((double)gradient[0][w][i]));
        for (i = 0; i < WORDS * WIDE; ++i)
            bad += !CLOSE(gradient[1][w][i], gradient[0][w][i], 1e-5 * largest);
        CHECK(bad == 0 && largest > 0, "gradient %d: %d differ", w, bad);
    }
}

static void test_sinusoidal(void)
{
    enum { POSITIONS = 40 };
    float values[POSITIONS * 7];
    ft_model *m = ft_create((ft_desc){0});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, 7}});
    int p, i, bad = 0;
    ft_add_positions(m, "p", x, POSITIONS, (ft_add_positions_options){.sinusoidal = true});
    ft_get(m, ft_find(m, "p.weight"), values, POSITIONS * 7);
    for (p = 0; p < POSITIONS; ++p)
        for (i = 0; i < 7; ++i) {
            double angle = p * pow(10000, -(i - i % 2) / 7.0);
            bad += !CLOSE(values[p * 7 + i], i % 2 ? cos(angle) : sin(angle), 1e-6);
        }
    CHECK(ft_error(m) == FT_OK && bad == 0, "%d sines are wrong %s", bad, ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    static const char *const levels[] = {"none", NULL};
    int i;
    for (i = 0; i < 2; ++i) {
        test_network("bert", levels[i], 1 + i);
        test_network("llama", levels[i], 2 - i);
        test_long(i == 1);
        test_long_memory(i == 1);
    }
    test_bits();
    test_self();
    test_loss_by_chunks();
    test_sinusoidal();
    return check_done("test_transformer");
}
