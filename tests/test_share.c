/* test_share.c - ft_share: several threads predict with one set of weights, which is held once, to the
   bits of one model alone. "test_share threads" runs only what threads do, for ThreadSanitizer. */
#include "public.h"
#include <pthread.h>

enum { THREADS = 8, SAMPLES = 24 };

/* ---- Networks: pictures (folded, Winograd, depthwise), text with lengths, a carried state ---- */
enum { CNN, TEXT, CARRIED, KINDS };

static ft_node block(ft_model *m, const char *name, ft_node x, int channels, ft_conv2d_options o)
{
    char norm[64];
    snprintf(norm, sizeof norm, "%s_bn", name);
    o.no_bias = true;
    x = ft_batch_norm(m, norm, ft_conv2d(m, name, x, channels, o), (ft_batch_norm_options){0});
    return ft_activation(m, "relu", NULL, x, (ft_activation_options){0});
}

static void build_cnn(ft_model *m)
{
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, 20, 20}});
    x = block(m, "a", x, 16, (ft_conv2d_options){.kernel = {3}, .padding = {1}});
    x = ft_add(m, NULL, x, block(m, "b", x, 16, (ft_conv2d_options){.kernel = {3}, .padding = {1}}));
    x = block(m, "c", x, 16, (ft_conv2d_options){.kernel = {3}, .groups = 16, .stride = {2}});
    x = block(m, "d", x, 24, (ft_conv2d_options){.kernel = {1}});
    x = ft_flatten(m, NULL, ft_global_avg_pool(m, NULL, x));
    x = ft_linear(m, "fc", x, 5, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
}

static const char *const texts[] = {"one two three", "four", "two two five six one", "three one", "six",
                                    "five four three two one", "one one", "two four six one three five two"};

static ft_model *new_model(int kind, ft_desc desc)
{
    ft_model *m;
    ft_network_options o = {.classes = 4, .embedding = 12, .hidden = 20, .layers = 2};
    desc.seed = 11;
    m = ft_create(desc);
    if (kind == CNN) build_cnn(m);
    else {
        ft_set_tokenizer(m, ft_tokenizer_build(m, FT_WORDS, texts, 8, (ft_vocabulary_options){0}));
        ft_network(m, kind == TEXT ? "lstm_classifier" : "char_rnn", o);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* What a model predicts of all samples, one after the other and in batches. */
typedef struct predictions { float numbers[8 * SAMPLES * 16]; size_t count; } predictions;

static void predict_pictures(ft_model *m, predictions *to)
{
    static const int sizes[] = {1, 7, SAMPLES};
    enum { EACH = 3 * 20 * 20 };
    float *x = (float *)malloc(SAMPLES * EACH * sizeof *x);
    size_t s;
    int i, at;
    if (!x) exit(1);
    for (i = 0; i < SAMPLES * EACH; ++i) x[i] = (float)((i * 7919 + i / 13) % 401) / 200.0f - 1;
    for (s = 0; s < 3; ++s)
        for (at = 0; at < SAMPLES; at += sizes[s]) {
            int count = SAMPLES - at < sizes[s] ? SAMPLES - at : sizes[s];
            ft_run(m, x + at * EACH, count, to->numbers + to->count, 5 * (size_t)count);
            to->count += 5 * (size_t)count;
        }
    free(x);
}

static void predict_texts(ft_model *m, predictions *to)
{
    ft_prediction best[4];
    int i, k;
    for (i = 0; i < SAMPLES; ++i) {
        ft_predict_text(m, texts[i % 8], strlen(texts[i % 8]), best, 4);
        for (k = 0; k < 4; ++k) {
            to->numbers[to->count++] = best[k].probability;
            to->numbers[to->count++] = (float)best[k].class_index;
        }
    }
}

/* The state goes on from run to run, so each model needs its own. */
static void continue_text(ft_model *m, predictions *to)
{
    size_t words = (size_t)ft_tokenizer_count(ft_get_tokenizer(m));
    float out[64];
    int i, tokens[2];
    ft_reset_state(m, "*");
    for (i = 0; i < SAMPLES; ++i) {
        tokens[0] = i % (int)words;
        ft_run(m, tokens, 1, out, words);
        memcpy(to->numbers + to->count, out, words * sizeof *out);
        to->count += words;
    }
}

static void predict(ft_model *m, int kind, predictions *to)
{
    to->count = 0;
    if (kind == CNN) predict_pictures(m, to);
    else if (kind == TEXT) predict_texts(m, to);
    else continue_text(m, to);
}

static bool same(const predictions *a, const predictions *b)
{
    return a->count > 0 && a->count == b->count
        && memcmp(a->numbers, b->numbers, a->count * sizeof *a->numbers) == 0;
}

/* ---- Threads ---- */
typedef struct worker {
    pthread_t thread;
    ft_model *model;
    int kind, rounds, equal;
    const predictions *want;
    bool ends;              /* the thread destroys its model */
} worker;

static void *work(void *argument)
{
    worker *w = (worker *)argument;
    predictions *got = (predictions *)malloc(sizeof *got);
    int round;
    for (round = 0; got && round < w->rounds; ++round) {
        predict(w->model, w->kind, got);
        w->equal += same(got, w->want);
    }
    free(got);
    if (w->ends) ft_destroy(w->model);
    return NULL;
}

static void test_threads(int rounds)
{
    predictions *want = (predictions *)malloc(sizeof *want);
    int kind, prepared, i;
    if (!want) exit(1);
    for (kind = 0; kind < KINDS; ++kind)
        for (prepared = 0; prepared < 2; ++prepared) {
            ft_model *alone = new_model(kind, (ft_desc){.threads = 1});
            ft_model *first = new_model(kind, (ft_desc){.threads = 2});
            worker workers[THREADS + 1];
            predict(alone, kind, want);
            if (prepared) { /* else the plan is made by ft_share */
                predictions *once = (predictions *)malloc(sizeof *once);
                if (!once) exit(1);
                predict(first, kind, once);
                CHECK(same(once, want), "kind %d alone", kind);
                free(once);
            }
            memset(workers, 0, sizeof workers);
            for (i = 0; i <= THREADS; ++i) {
                worker *w = &workers[i];
                w->model = i < THREADS ? ft_share(first, (ft_desc){.threads = i % 2 + 1}) : first;
                w->kind = kind;
                w->rounds = rounds;
                w->want = want;
                w->ends = i % 3 == 0 || i == THREADS; /* the first model too, before some shares */
                CHECK(w->model != NULL, "%s", ft_error_text(first));
            }
            for (i = 0; i <= THREADS; ++i)
                if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) exit(1);
            for (i = 0; i <= THREADS; ++i) pthread_join(workers[i].thread, NULL);
            for (i = 0; i <= THREADS; ++i) {
                CHECK(workers[i].equal == rounds, "kind %d, thread %d: %d of %d rounds are equal", kind, i,
                      workers[i].equal, rounds);
                if (!workers[i].ends) {
                    CHECK(ft_error(workers[i].model) == FT_OK, "%s", ft_error_text(workers[i].model));
                    ft_destroy(workers[i].model);
                }
            }
            ft_destroy(alone);
        }
    free(want);
}

/* ---- Each share trains a head of its own on the common layers ---- */
enum { FEATURES = 24 };

static ft_model *with_head(ft_model *m, int which)
{
    ft_node nodes[2], x;
    char name[32];
    int i;
    ft_freeze(m, "*");
    for (x.id = 1, i = 0; x.id <= ft_node_count(m); ++x.id)
        if (!strcmp(ft_node_operator(m, x), "flatten")) nodes[i++] = x;
    snprintf(name, sizeof name, "head%d", which);
    x = ft_linear(m, name, nodes[0], 3, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "own_loss", x, ft_find(m, "labels"), (ft_loss_options){0}));
    return m;
}

static uint64_t train_head(ft_model *m, int which)
{
    enum { COUNT = 12, EACH = 3 * 20 * 20 };
    static const float rates[] = {0.02f, 0.05f};
    float *x = (float *)malloc(COUNT * EACH * sizeof *x);
    int labels[COUNT], i;
    ft_fit_options o = {.epochs = 2, .batch_size = 4, .no_cache = which > 1};
    uint64_t hash;
    if (!x) exit(1);
    o.optimizer.learning_rate = rates[which % 2];
    for (i = 0; i < COUNT * EACH; ++i) x[i] = (float)((i * 31 + i / 7) % 97) / 50.0f - 1;
    for (i = 0; i < COUNT; ++i) labels[i] = (i + which) % 3;
    ft_fit(m, ft_arrays(m, COUNT, x, labels, (ft_array_options){0}), o);
    hash = ft_error(m) ? 0 : fingerprint(m); /* no CHECK: it runs on several threads */
    free(x);
    return hash;
}

typedef struct trainer { pthread_t thread; ft_model *model; int which; uint64_t hash; } trainer;

static void *train(void *argument)
{
    trainer *t = (trainer *)argument;
    t->hash = train_head(t->model, t->which);
    return NULL;
}

static void test_heads(void)
{
    ft_model *first = new_model(CNN, (ft_desc){.threads = 1});
    uint64_t before = fingerprint(first);
    trainer trainers[4];
    int i;
    for (i = 0; i < 4; ++i) {
        trainers[i].model = with_head(ft_share(first, (ft_desc){.seed = 11, .threads = 1}), i);
        trainers[i].which = i;
    }
    for (i = 0; i < 4; ++i)
        if (pthread_create(&trainers[i].thread, NULL, train, &trainers[i])) exit(1);
    for (i = 0; i < 4; ++i) {
        ft_model *alone = with_head(new_model(CNN, (ft_desc){.threads = 1}), i);
        uint64_t want = train_head(alone, i);
        pthread_join(trainers[i].thread, NULL);
        CHECK(want && trainers[i].hash == want, "head %d has other bits than trained alone", i);
        ft_destroy(trainers[i].model);
        ft_destroy(alone);
    }
    CHECK(fingerprint(first) == before, "the common weights are as they were");
    ft_destroy(first);
}

/* ---- Memory: the weights, and their packed form, are held once. A share needs the scratch of one layer,
   in which training packs its weights. ---- */
static void test_memory(void)
{
    enum { WIDE = 300, LAYERS = 12 };
    memory_count owner = {0}, each[THREADS];
    ft_model *m = ft_create((ft_desc){.threads = 1, .allocator = counting(&owner)}), *shares[THREADS];
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {WIDE}});
    const size_t layer = (size_t)WIDE * WIDE * sizeof(float), weights = LAYERS * layer;
    float *in = (float *)calloc(2 * WIDE, sizeof *in), *out = in + WIDE;
    size_t before, alone;
    ft_plan_bytes plan;
    char name[16];
    int i;
    if (!in) exit(1);
    for (i = 0; i < LAYERS; ++i) {
        snprintf(name, sizeof name, "layer%d", i);
        x = ft_linear(m, name, x, WIDE, (ft_linear_options){0});
    }
    ft_set_output(m, x);
    CHECK(ft_run(m, in, 1, out, WIDE) == FT_OK, "%s", ft_error_text(m));
    alone = owner.bytes;
    CHECK(alone >= 2 * weights, "%zu bytes hold the weights, plain and packed", alone);
    for (i = 0; i < THREADS; ++i) {
        memset(&each[i], 0, sizeof each[i]);
        before = owner.bytes;
        shares[i] = ft_share(m, (ft_desc){.threads = 1, .allocator = counting(&each[i])});
        CHECK(shares[i] && owner.bytes - before < 4096, "share %d: %zu bytes more of the first model: %s", i,
              owner.bytes - before, ft_error_text(m));
        CHECK(ft_run(shares[i], in, 1, out, WIDE) == FT_OK, "%s", ft_error_text(shares[i]));
        CHECK(each[i].most < layer + layer / 4, "share %d takes %zu bytes, the weights %zu", i, each[i].most, weights);
        plan = ft_plan(shares[i], 1, false);
        CHECK(plan.parameters == 0 && plan.total < layer + layer / 4 && plan.other < plan.total,
              "the plan says %zu and %zu", plan.parameters, plan.total);
    }
    printf("8 shares of a model of %zu bytes: %zu each\n", alone, each[0].bytes);
    ft_destroy(m);
    CHECK(owner.bytes > 2 * weights, "shares still need it");
    for (i = 0; i < THREADS; ++i) {
        CHECK(ft_run(shares[i], in, 1, out, WIDE) == FT_OK, "%s", ft_error_text(shares[i]));
        ft_destroy(shares[i]);
        CHECK(each[i].blocks == 0, "share %d leaves %ld blocks", i, each[i].blocks);
    }
    CHECK(owner.blocks == 0, "the first model leaves %ld blocks", owner.blocks);
    free(in);
}

/* ---- After its shares a model may change again, and be shared again ---- */
static void test_again(void)
{
    predictions *want = (predictions *)malloc(sizeof *want), *got = (predictions *)malloc(sizeof *got);
    int kind, round;
    if (!want || !got) exit(1);
    for (kind = 0; kind < KINDS; ++kind) {
        ft_model *m = new_model(kind, (ft_desc){.threads = 1}), *plain = new_model(kind, (ft_desc){.threads = 1});
        for (round = 0; round < 3; ++round) {
            ft_model *share = ft_share(m, (ft_desc){.threads = 1});
            predict(plain, kind, want);
            predict(share, kind, got);
            CHECK(same(got, want), "kind %d, round %d: the share", kind, round);
            if (round == 1) predict(m, kind, got); /* a larger plan while it is shared */
            CHECK(same(got, want), "kind %d, round %d: the first model", kind, round);
            ft_destroy(share);
            ft_initialise(m, "*", round ? FT_INIT_XAVIER_UNIFORM : FT_INIT_KAIMING_NORMAL);
            ft_initialise(plain, "*", round ? FT_INIT_XAVIER_UNIFORM : FT_INIT_KAIMING_NORMAL);
            predict(plain, kind, want);
            predict(m, kind, got);
            CHECK(same(got, want), "kind %d, round %d: new weights", kind, round);
        }
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
        ft_destroy(plain);
    }
    free(want);
    free(got);
}

/* After training by hand Adam still owes updates to rows of the embedding that no batch used. */
static void test_owed_updates(void)
{
    predictions *want = (predictions *)malloc(sizeof *want), *got = (predictions *)malloc(sizeof *got);
    const int tokens[] = {3, 4, 3, 5}, lengths[] = {2, 2}, labels[] = {1, 2};
    ft_model *m[2], *share;
    int which, step;
    if (!want || !got) exit(1);
    for (which = 0; which < 2; ++which) {
        m[which] = new_model(TEXT, (ft_desc){.threads = 1});
        ft_set_length(m[which], 2);
        for (step = 0; step < 4; ++step) {
            const int later[] = {6, 7, 8, 6};
            ft_feed(m[which], ft_find(m[which], "tokens"), step ? later : tokens, 2);
            ft_feed(m[which], ft_find(m[which], "lengths"), lengths, 2);
            ft_feed(m[which], ft_find(m[which], "labels"), labels, 2);
            ft_forward(m[which], true);
            ft_backward(m[which]);
            ft_update(m[which], 0.1f);
        }
        CHECK(ft_error(m[which]) == FT_OK, "%s", ft_error_text(m[which]));
    }
    share = ft_share(m[0], (ft_desc){.threads = 1});
    predict(m[1], TEXT, want);
    predict(share, TEXT, got);
    CHECK(same(got, want), "%s", ft_error_text(m[0]));
    ft_destroy(share);
    ft_destroy(m[0]);
    ft_destroy(m[1]);
    free(want);
    free(got);
}

/* ft_share in the middle of a text changes no state. */
static void test_states(void)
{
    ft_model *m = new_model(CARRIED, (ft_desc){.threads = 1}), *share = NULL;
    ft_model *plain = new_model(CARRIED, (ft_desc){.threads = 1});
    size_t words = (size_t)ft_tokenizer_count(ft_get_tokenizer(m));
    float a[64], b[64];
    int i, token;
    for (i = 0; i < 6; ++i) {
        token = i % (int)words;
        ft_run(m, &token, 1, a, words);
        ft_run(plain, &token, 1, b, words);
        if (i == 2) { /* written weights are packed again, by ft_share */
            float *weight = weight_of(m, ft_find(m, "out.weight"));
            ft_set(m, ft_find(m, "out.weight"), weight, numbers_of(m, ft_find(m, "out.weight")));
            free(weight);
        }
        if (i == 2) share = ft_share(m, (ft_desc){.threads = 1});
        CHECK(memcmp(a, b, words * sizeof *a) == 0, "token %d", i);
    }
    ft_destroy(plain);
    ft_destroy(m);
    ft_destroy(share);
}

/* ---- What a share has: settings, names, the file that it saves ---- */
static char *bytes_of(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    char *bytes = (char *)malloc(1 << 20);
    *count = file && bytes ? fread(bytes, 1, 1 << 20, file) : 0;
    if (file) fclose(file);
    return bytes;
}

static void test_copy(void)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    ft_model *m = new_model(TEXT, (ft_desc){.threads = 1}), *s;
    char *one, *two;
    size_t a = 0, b = 0;
    ft_set_class_names(m, 4, names);
    ft_set_max_length(m, 77);
    ft_freeze(m, "fc.bias");
    s = ft_share(m, (ft_desc){.threads = 1});
    CHECK(s && ft_max_length(s) == 77 && !strcmp(ft_class_name(s, 2), "c") && ft_class_name(s, 2) != ft_class_name(m, 2)
          && ft_get_tokenizer(s) && ft_get_tokenizer(s) != ft_get_tokenizer(m)
          && !strcmp(ft_architecture(s), ft_architecture(m)) && ft_node_frozen(s, ft_find(s, "fc.bias"))
          && ft_output(s).id == ft_output(m).id, "%s", ft_error_text(m));
    ft_save(m, "build/share_one.safetensors", (ft_save_options){.type = FT_F32});
    ft_save(s, "build/share_two.safetensors", (ft_save_options){.type = FT_F32});
    one = bytes_of("build/share_one.safetensors", &a);
    two = bytes_of("build/share_two.safetensors", &b);
    CHECK(a > 1000 && a == b && memcmp(one, two, a) == 0, "the files differ: %zu and %zu bytes", a, b);
    free(one);
    free(two);
    ft_destroy(m);
    ft_destroy(s);
}

/* ---- Errors ---- */
static void refused(ft_model *m, ft_status status, const char *text)
{
    CHECK(ft_error(m) == status && strstr(ft_error_text(m), text), "'%s' is expected, not '%s'", text,
          ft_error_text(m));
    ft_clear_error(m);
}

static void test_refused(void)
{
    ft_model *m = new_model(CNN, (ft_desc){.threads = 1}), *s, *both[2], *empty = ft_create((ft_desc){.threads = 1});
    float x[3 * 20 * 20] = {0}, bias[5] = {0};
    int label = 1, i;
    uint64_t before = fingerprint(m);
    ft_data *data;
    CHECK(!ft_share(NULL, (ft_desc){0}), "a NULL model");
    CHECK(!ft_share(empty, (ft_desc){0}), "an empty model");
    refused(empty, FT_INVALID, "the model is empty");
    CHECK(!ft_share(m, (ft_desc){.threads = -1}), "-1 threads");
    refused(m, FT_INVALID, "threads is -1");
    if (strcmp(FINETUNE_VERSION, "")) {
        CHECK(!ft_share(m, (ft_desc){.precision = "bf16_emulated"}), "another precision");
        refused(m, FT_INVALID, "precision must be the model's own");
    }
    ft_save(m, "build/share_one.safetensors", (ft_save_options){.type = FT_F32});
    /* A gradient that waits when the model is shared must not be applied. */
    ft_feed(m, ft_find(m, "input"), x, 1);
    ft_feed(m, ft_find(m, "labels"), &label, 1);
    ft_freeze(m, "*_bn*");
    ft_forward(m, true);
    ft_backward(m);
    s = ft_share(m, (ft_desc){.threads = 1});
    CHECK(s != NULL, "%s", ft_error_text(m));
    ft_update(m, 0.1f);
    refused(m, FT_INVALID, "training: a.weight cannot change");
    CHECK(!ft_share(s, (ft_desc){0}), "a share of a share");
    refused(s, FT_INVALID, "is a share itself");
    both[0] = m;
    both[1] = s;
    for (i = 0; i < 2; ++i) {
        const char *whose = i ? "shared with the model that ft_share was called for" : "shared with models made by";
        ft_set(both[i], ft_find(both[i], "fc.bias"), bias, 5);
        refused(both[i], FT_INVALID, whose);
        ft_initialise(both[i], "fc.*", FT_INIT_ZEROS);
        refused(both[i], FT_INVALID, "ft_initialise: fc.weight");
        ft_load_weights(both[i], "build/share_one.safetensors", (ft_weights_options){0});
        refused(both[i], FT_INVALID, "ft_load_weights: ");
        ft_replace_head(both[i], 3);
        refused(both[i], FT_INVALID, "ft_replace_head: fc.weight");
        data = ft_arrays(both[i], 1, x, &label, (ft_array_options){0});
        ft_fit(both[i], data, (ft_fit_options){0});
        refused(both[i], FT_INVALID, "training: ");
        ft_finetune(both[i], data, (ft_finetune_options){0});
        refused(both[i], FT_INVALID, "ft_finetune: ");
        ft_feed(both[i], ft_find(both[i], "input"), x, 1);
        ft_feed(both[i], ft_find(both[i], "labels"), &label, 1);
        ft_forward(both[i], true);
        refused(both[i], FT_INVALID, "training: ");
        CHECK(fingerprint(both[i]) == before, "nothing changed");
    }
    ft_freeze(s, "*"); /* no weight changes: gradients of inputs */
    ft_want_gradient(s, ft_find(s, "input"));
    ft_feed(s, ft_find(s, "input"), x, 1);
    ft_feed(s, ft_find(s, "labels"), &label, 1);
    ft_forward(s, true);
    CHECK(ft_backward(s) == FT_OK, "%s", ft_error_text(s));
    ft_destroy(s);
    ft_set(m, ft_find(m, "fc.bias"), bias, 5);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model(CARRIED, (ft_desc){.threads = 1});
    s = ft_share(m, (ft_desc){.threads = 1});
    ft_language_model_to_classifier(s, 2, (ft_language_model_to_classifier_options){0});
    refused(s, FT_INVALID, "ft_language_model_to_classifier: ");
    ft_destroy(s);
    ft_destroy(m);
    ft_destroy(empty);
}

/* An allocator that fails at each call in turn, of the first model and of the share. */
static void test_no_memory(void)
{
    int whose, kind;
    for (kind = 0; kind < KINDS; kind += 2)
        for (whose = 0; whose < 2; ++whose) {
            long at, calls = 1;
            for (at = 0; at <= calls; ++at) {
                memory_count count[2] = {{0}, {0}};
                ft_model *m = new_model(kind, (ft_desc){.threads = 1, .allocator = counting(&count[0])}), *s;
                long before = count[whose].calls;
                count[whose].fail_at = at ? before + at : 0;
                s = ft_share(m, (ft_desc){.threads = 1, .allocator = counting(&count[1])});
                if (at == 0) calls = count[whose].calls - before;
                CHECK(at ? !s && ft_error(m) == FT_MEMORY : s != NULL, "call %ld: %s", at, ft_error_text(m));
                ft_destroy(m);
                ft_destroy(s);
                CHECK(count[0].blocks == 0 && count[1].blocks == 0, "call %ld of %d leaves %ld and %ld blocks", at,
                      whose, count[0].blocks, count[1].blocks);
            }
            CHECK(calls > 5, "only %ld calls", calls);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "threads")) {
        test_threads(1);
        test_heads();
        return check_done("test_share threads");
    }
    test_threads(3);
    test_heads();
    test_memory();
    test_again();
    test_owed_updates();
    test_states();
    test_copy();
    test_refused();
    test_no_memory();
    return check_done("test_share");
}
