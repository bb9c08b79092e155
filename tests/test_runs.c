/* test_runs.c - runs through the public interface: how batches of sequences of different lengths
   are fed, what a run leaves behind, networks of several inputs, weights and outputs that are not
   finite, and the metric of regression. */
#include "check.h"

#include <limits.h>

#include "finetune.h"
#include "public.h"

/* The error that is wanted, with these words in its text; the model is usable again afterwards. */
static void expect(ft_model *m, ft_status want, const char *what, const char *words)
{
    CHECK(ft_error(m) == want, "%s: %s (%s), not %s", what, ft_status_name(ft_error(m)),
          ft_error_text(m), ft_status_name(want));
    CHECK(strstr(ft_error_text(m), words) != NULL, "%s: \"%s\" lacks \"%s\"", what,
          ft_error_text(m), words);
    ft_clear_error(m);
}

static ft_model *new_model(void)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.seed = 7;
    return ft_create(desc);
}

static ft_node linear(ft_model *m, const char *name, ft_node x, int out)
{
    ft_linear_options o;
    memset(&o, 0, sizeof o);
    return ft_linear(m, name, x, out, o);
}

static void cross_entropy(ft_model *m, ft_node x)
{
    ft_loss_options o;
    memset(&o, 0, sizeof o);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, add_input(m, "labels", FT_I32, 0, 0, 0), o));
}

/* ---- Batches of sequences ---- */

enum { MOST = 5, SAMPLES = 4 };
static const int lengths_of[SAMPLES] = {MOST, 3, 2, 3};

typedef struct sequences {
    ft_model *m;
    ft_node in;
    int runs, room;         /* batches seen; the largest room that a slot had */
    int wrong;
    float first_wrong, wanted;
} sequences;

/* Element `at` (row-major, of the largest shape) of sample `index`. */
static float element(int index, size_t at) { return (float)(1000 * (index + 1)) + (float)at; }

static size_t count_of(ft_shape shape)
{
    size_t count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d) count *= (size_t)shape.size[d];
    return count;
}

static bool sequence_get(void *user, int index, int view, ft_slot *slots, int count)
{
    sequences *s = (sequences *)user;
    int k;
    (void)view;
    for (k = 0; k < count; ++k) {
        size_t i, n = count_of(slots[k].shape);
        if (slots[k].type == FT_I32) {
            *(int32_t *)slots[k].values = index & 1;
            continue;
        }
        for (i = 0; i < n; ++i) ((float *)slots[k].values)[i] = element(index, i);
        slots[k].length = lengths_of[index];
        if (slots[k].shape.size[0] > s->room) s->room = slots[k].shape.size[0];
    }
    return true;
}

static int sequence_length(void *user, int index)
{
    (void)user;
    return lengths_of[index];
}

/* What the input holds must be the sample, cut where its shape says FT_LENGTH. */
static void sequence_seen(void *user, const ft_sample_result *result)
{
    sequences *s = (sequences *)user;
    ft_shape shape = ft_node_shape(s->m, s->in);
    int at[FINETUNE_MAX_RANK] = {0}, length = ft_length(s->m), d;
    size_t n = 1, i;
    float got[256];
    for (d = 1; d < shape.rank; ++d) n *= (size_t)(shape.size[d] == FT_LENGTH ? length
                                                                             : shape.size[d]);
    CHECK(length == lengths_of[result->index], "%d steps", length);
    CHECK(ft_get(s->m, s->in, got, n) == FT_OK, "%s", ft_error_text(s->m));
    for (i = 0; i < n; ++i) {
        size_t from = 0;
        for (d = 1; d < shape.rank; ++d)
            from = from * (size_t)(shape.size[d] == FT_LENGTH ? MOST : shape.size[d])
                + (size_t)at[d];
        if (!(fabsf(got[i] - element(result->index, from)) <= 0)) {
            if (!s->wrong) {
                s->first_wrong = got[i];
                s->wanted = element(result->index, from);
            }
            s->wrong += 1;
        }
        for (d = shape.rank - 1; d > 0; --d) {
            if (++at[d] < (shape.size[d] == FT_LENGTH ? length : shape.size[d])) break;
            at[d] = 0;
        }
    }
    s->runs += 1;
}

/* A classifier over the input: its steps to the front, and their mean. */
static ft_node over_steps(ft_model *m, int kind, ft_node x)
{
    static const int axes[] = {0, 2, 1}, four[] = {0, 2, 1, 3}, last[] = {0, 3, 1, 2};
    ft_conv1d_options conv;
    ft_step_pool_options pool;
    ft_node none = {0};
    int sizes[2] = {FT_LENGTH, 6};
    memset(&conv, 0, sizeof conv);
    memset(&pool, 0, sizeof pool);
    pool.kind = FT_POOL_MEAN;
    if (kind == 1) {
        conv.kernel = 3;
        conv.padding[0] = 1;
        x = ft_permute(m, "steps", ft_conv1d(m, "conv", x, 4, conv), 3, axes);
    }
    if (kind == 3) x = ft_permute(m, "steps", x, 4, four);
    if (kind == 4) x = ft_permute(m, "steps", x, 4, last);
    if (kind >= 2 && kind <= 4) x = ft_reshape(m, "rows", x, 2, sizes);
    if (kind == 5)
        return linear(m, "fc", ft_flatten(m, "flat", ft_global_avg_pool(m, "all", x)), 2);
    return linear(m, "fc", ft_step_pool(m, "pool", x, none, pool), 2);
}

/* FT_LENGTH at each place of a shape, at two places, and in pictures, which lie channels-last. */
static void test_cut_batches(void)
{
    static const int shapes[][3] = {{FT_LENGTH, 2, 0}, {2, FT_LENGTH, 0}, {FT_LENGTH, 2, 3},
                                    {2, FT_LENGTH, 3}, {2, 3, FT_LENGTH},
                                    {2, FT_LENGTH, FT_LENGTH}};
    size_t k;
    int size;
    for (k = 0; k < sizeof shapes / sizeof shapes[0]; ++k)
        for (size = 1; size <= SAMPLES; size += SAMPLES - 1) {
            ft_model *m = new_model();
            sequences s;
            ft_source source;
            ft_evaluate_options o;
            ft_fit_options fit;
            ft_data *data;
            memset(&s, 0, sizeof s);
            memset(&source, 0, sizeof source);
            memset(&o, 0, sizeof o);
            memset(&fit, 0, sizeof fit);
            s.m = m;
            s.in = add_input(m, "input", FT_F32, shapes[k][0], shapes[k][1], shapes[k][2]);
            cross_entropy(m, over_steps(m, (int)k, s.in));
            source.user = &s;
            source.count = SAMPLES;
            source.classes = 2;
            source.get = sequence_get;
            source.length = sequence_length;
            data = ft_data_source(m, source);
            if (size == 1) {
                o.sample = sequence_seen;
                o.sample_user = &s;
            }
            o.batch_size = size;
            ft_evaluate(m, data, o);
            CHECK(size > 1 || (s.runs == SAMPLES && s.wrong == 0), "shape %d: %d samples, %d"
                  " numbers wrong, the first %g, not %g; %s", (int)k, s.runs, s.wrong,
                  (double)s.first_wrong, (double)s.wanted, ft_error_text(m));
            fit.epochs = 1;
            fit.batch_size = size;
            fit.optimizer.learning_rate = 1e-7f;
            ft_fit(m, data, fit);
            CHECK(ft_error(m) == FT_OK, "shape %d: %s", (int)k, ft_error_text(m));
            ft_destroy(m);
        }
}

/* A run leaves the length as ft_set_length said: a source without length() has the same room in
   each run. */
static void test_length_stays(void)
{
    ft_model *m = new_model();
    sequences s;
    ft_source source;
    ft_fit_options fit;
    ft_evaluate_options evaluate;
    ft_data *data;
    memset(&s, 0, sizeof s);
    memset(&source, 0, sizeof source);
    memset(&fit, 0, sizeof fit);
    memset(&evaluate, 0, sizeof evaluate);
    s.m = m;
    s.in = add_input(m, "input", FT_F32, FT_LENGTH, 2, 0);
    cross_entropy(m, over_steps(m, 0, s.in));
    source.user = &s;
    source.count = SAMPLES - 1;
    source.classes = 2;
    source.get = sequence_get;
    data = ft_data_source(m, source);
    ft_set_length(m, 9);
    fit.epochs = 1;
    fit.batch_size = 2;
    fit.optimizer.learning_rate = 1e-7f;
    ft_fit(m, data, fit);
    CHECK(ft_length(m) == 9 && s.room == 9, "after ft_fit: length %d, room %d", ft_length(m),
          s.room);
    s.room = 0;
    ft_evaluate(m, data, evaluate);
    CHECK(ft_length(m) == 9 && s.room == 9, "after ft_evaluate: length %d, room %d", ft_length(m),
          s.room);
    source.length = sequence_length;
    data = ft_data_source(m, source);
    ft_evaluate(m, data, evaluate);
    CHECK(ft_length(m) == 9, "after data with lengths: %d", ft_length(m));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* The memory of inputs is as large as what was fed: ft_get and ft_set look at that. */
static void test_get_after_longer(void)
{
    ft_model *m = new_model();
    float x[6] = {1, 2, 3, 4, 5, 6}, got[4096];
    ft_node in = add_input(m, "input", FT_F32, FT_LENGTH, 2, 0);
    ft_set_output(m, over_steps(m, 0, in));
    ft_set_length(m, 3);
    ft_feed(m, in, x, 1);
    ft_set_length(m, 2048);
    ft_get(m, in, got, 4096);
    expect(m, FT_SHAPE, "ft_get of a short input", "6 numbers");
    CHECK(ft_get(m, in, got, 6) == FT_OK && CLOSE(got[5], 6, 0), "%s", ft_error_text(m));
    memset(got, 0, sizeof got);
    CHECK(ft_set(m, in, got, 4096) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_get(m, in, got, 4096) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Several inputs, and no labels ---- */

/* y = a + b, with a loss over "labels". */
static ft_model *two_inputs(ft_node *a, ft_node *b)
{
    ft_model *m = new_model();
    *a = add_input(m, "a", FT_F32, 2, 0, 0);
    *b = add_input(m, "b", FT_F32, 2, 0, 0);
    cross_entropy(m, ft_add(m, "sum", *a, *b));
    return m;
}

static void test_two_inputs(void)
{
    ft_node a, b;
    ft_model *m = two_inputs(&a, &b);
    float x[4] = {1, 2, 3, 4}, y[4] = {10, 20, 30, 40}, got[4];
    int labels[4] = {0, 1, 0, 1}, i;
    ft_feed(m, b, y, 2);
    CHECK(ft_run(m, x, 2, got, 4) != FT_OK, "ft_run took what was fed to b before");
    expect(m, FT_INVALID, "ft_run of two inputs", "\"a\" and \"b\"");
    ft_feed(m, a, x, 2);
    ft_feed(m, b, y, 2);
    CHECK(ft_forward(m, false) == 0 && ft_error(m) == FT_OK, "without labels: %s",
          ft_error_text(m));
    ft_get(m, ft_output(m), got, 4);
    for (i = 0; i < 4; ++i) CHECK(CLOSE(got[i], x[i] + y[i], 0), "%d: %g", i, (double)got[i]);
    ft_get(m, ft_loss(m), got, 1);
    expect(m, FT_INVALID, "the loss of a run without labels", "labels");
    ft_feed(m, ft_find(m, "labels"), labels, 2);
    CHECK(ft_forward(m, false) > 0 && ft_error(m) == FT_OK, "with labels: %s", ft_error_text(m));
    CHECK(ft_get(m, ft_loss(m), got, 1) == FT_OK, "%s", ft_error_text(m));
    ft_feed(m, a, x, 1);
    ft_feed(m, b, y, 1);
    CHECK(ft_forward(m, false) == 0 && ft_error(m) == FT_OK, "labels of another batch before: %s",
          ft_error_text(m));
    ft_feed(m, ft_find(m, "labels"), labels, 2);
    ft_feed(m, a, x, 1);
    ft_forward(m, false);
    expect(m, FT_SHAPE, "labels of another batch", "labels");
    ft_feed(m, a, x, 2);
    ft_forward(m, false);
    expect(m, FT_SHAPE, "inputs of two batches", "same batch");
    ft_feed(m, b, y, 2);
    CHECK(ft_forward(m, true) > 0 && ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = two_inputs(&a, &b);
    ft_feed(m, a, x, 2);
    ft_feed(m, b, y, 2);
    ft_forward(m, true);
    expect(m, FT_INVALID, "training without labels", "labels");
    ft_destroy(m);
}

/* ft_run knows how large the caller's memory is; what only the loss reads is no input of it. */
static void test_run_arguments(void)
{
    ft_model *m = new_model();
    float x[6] = {1, 2, 3, 4, 5, 6}, got[4];
    int lengths[2] = {1, 1};
    cross_entropy(m, linear(m, "fc", add_input(m, "x", FT_F32, 3, 0, 0), 2));
    CHECK(ft_run(m, x, 2, got, 4) == FT_OK, "%s", ft_error_text(m));
    ft_run(m, x, 2, got, 2);
    expect(m, FT_SHAPE, "too little room", "4 numbers");
    ft_run(m, x, 0, got, 0);
    expect(m, FT_INVALID, "no samples", "at least 1");
    ft_run_lengths(m, x, lengths, 2, got, 4);
    expect(m, FT_INVALID, "lengths of no sequences", "no input \"lengths\"");
    ft_set_output(m, ft_find(m, "fc.weight"));
    ft_run(m, x, 1, got, 2);
    CHECK(ft_error(m) != FT_OK, "a parameter as output is run");
    ft_destroy(m);
}

/* More inputs than a data source fills are refused; by hand any number of them works. */
static void test_many_inputs(void)
{
    enum { MANY = 20 };
    ft_model *m = new_model();
    ft_node x[MANY];
    sequences s;
    ft_source source;
    ft_fit_options fit;
    float value[2], got[2 * MANY];
    char name[8];
    int i;
    memset(&s, 0, sizeof s);
    memset(&source, 0, sizeof source);
    memset(&fit, 0, sizeof fit);
    for (i = 0; i < MANY; ++i) {
        snprintf(name, sizeof name, "x%d", i);
        x[i] = add_input(m, name, FT_F32, 2, 0, 0);
    }
    cross_entropy(m, linear(m, "fc", ft_concat(m, "all", MANY, x, 1), 2));
    ft_set_output(m, ft_find(m, "all"));
    for (i = 0; i < MANY; ++i) {
        value[0] = (float)i;
        value[1] = (float)-i;
        ft_feed(m, x[i], value, 1);
    }
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, 2 * MANY);
    CHECK(ft_error(m) == FT_OK && CLOSE(got[2 * 17], 17, 0) && CLOSE(got[39], -19, 0), "%s",
          ft_error_text(m));
    source.user = &s;
    source.count = 2;
    source.classes = 2;
    source.get = sequence_get;
    ft_fit(m, ft_data_source(m, source), fit);
    expect(m, FT_UNSUPPORTED, "a source of 20 inputs", "at most 8 inputs");
    ft_destroy(m);
}

/* Data that does not know an input leaves it empty: that is said before the run. */
static void test_unfilled(void)
{
    ft_model *m = new_model();
    ft_embedding_options o;
    ft_text_options text;
    ft_fit_options fit;
    ft_node x, lengths = {0};
    ft_step_pool_options pool;
    memset(&o, 0, sizeof o);
    memset(&text, 0, sizeof text);
    memset(&fit, 0, sizeof fit);
    memset(&pool, 0, sizeof pool);
    x = ft_embedding(m, "words", add_input(m, "tokens", FT_I32, FT_LENGTH, 0, 0), 20, 2, o);
    x = ft_add(m, "sum", ft_step_pool(m, "pool", x, lengths, pool),
               add_input(m, "age", FT_F32, 2, 0, 0));
    cross_entropy(m, x);
    text.memory = "text\tlabel\na b\tx\nc d\ty\n";
    text.bytes = strlen((const char *)text.memory);
    ft_fit(m, ft_texts(m, NULL, text), fit);
    expect(m, FT_INVALID, "an input that texts do not fill", "\"age\"");
    ft_destroy(m);
}

/* ---- Not finite ---- */

enum { SIDE = 4 };

static ft_model *pictures(void)
{
    ft_model *m = new_model();
    ft_activation_options plain;
    ft_preprocessing p;
    ft_node x;
    memset(&plain, 0, sizeof plain);
    memset(&p, 0, sizeof p);
    p.width = p.height = SIDE;
    p.channels = 1;
    p.std[0] = 1;
    ft_set_preprocessing(m, p);
    x = ft_flatten(m, "flat", add_input(m, "input", FT_F32, 1, SIDE, SIDE));
    x = ft_activation(m, "relu", "relu", linear(m, "hidden", x, 5), plain);
    cross_entropy(m, linear(m, "fc", x, 3));
    return m;
}

/* A weight that is NaN: relu makes it 0, and all that follows is finite. */
static void test_weights_not_finite(void)
{
    static const char *const names[] = {"hidden.weight", "fc.bias"};
    static const float values[] = {NAN, INFINITY};
    unsigned char pixels[SIDE * SIDE] = {0};
    float weights[5 * SIDE * SIDE] = {0}, x[SIDE * SIDE] = {0}, got[3];
    int labels[1] = {0}, i, k;
    for (i = 0; i < 4; ++i) {
        ft_model *m = pictures();
        ft_prediction best[3];
        ft_evaluate_options evaluate;
        ft_fit_options fit;
        ft_array_options arrays;
        ft_data *data;
        memset(&evaluate, 0, sizeof evaluate);
        memset(&fit, 0, sizeof fit);
        memset(&arrays, 0, sizeof arrays);
        data = ft_arrays(m, 1, x, labels, arrays);
        fit.epochs = 1;
        CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, 1, best, 3) == 3, "%s", ft_error_text(m));
        weights[1] = values[i / 2];
        ft_set(m, ft_find(m, names[i % 2]), weights, i % 2 ? 3 : 5 * SIDE * SIDE);
        for (k = 0; k < 5; ++k) {
            if (k == 0) CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, 1, best, 3) == 0, "pixels");
            if (k == 1) ft_run(m, x, 1, got, 3);
            if (k == 2) ft_evaluate(m, data, evaluate);
            if (k == 3) ft_fit(m, data, fit);
            if (k == 4) {
                ft_feed(m, ft_find(m, "input"), x, 1);
                ft_forward(m, false);
            }
            expect(m, FT_NOT_FINITE, names[i % 2], names[i % 2]);
        }
        ft_destroy(m);
    }
}

/* Weights that are finite, but an output that is not; and values that are not. */
static void test_output_not_finite(void)
{
    unsigned char pixels[SIDE * SIDE];
    float weights[3 * 5], hidden[5 * SIDE * SIDE], x[2 * SIDE * SIDE] = {0}, got[6];
    ft_model *m = pictures();
    ft_prediction best[3];
    int i;
    memset(pixels, 255, sizeof pixels);
    for (i = 0; i < 15; ++i) weights[i] = 3e38f;
    for (i = 0; i < 5 * SIDE * SIDE; ++i) hidden[i] = 1e3f;
    x[SIDE * SIDE] = NAN;
    ft_run(m, x, 2, got, 6);
    CHECK(ft_error(m) == FT_OK || ft_error(m) == FT_NOT_FINITE, "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_set(m, ft_find(m, "hidden.weight"), hidden, 5 * SIDE * SIDE);
    ft_set(m, ft_find(m, "fc.weight"), weights, 15);
    CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, 1, best, 3) == 0, "a class");
    expect(m, FT_NOT_FINITE, "an infinite output", "\"fc\"");
    for (i = 0; i < SIDE * SIDE; ++i) x[i] = 1;
    ft_run(m, x, 1, got, 3);
    expect(m, FT_NOT_FINITE, "ft_run", "\"fc\"");
    ft_destroy(m);
}

/* A language model and a classifier of texts with a weight that is NaN. */
static void test_texts_not_finite(void)
{
    static const char *const networks[] = {"char_rnn", "gru_classifier"};
    static const char *const texts[] = {"some letters"};
    static const float bad[4] = {0, NAN, 0, 0};
    int i;
    for (i = 0; i < 2; ++i) {
        ft_model *m = new_model();
        ft_network_options options;
        ft_vocabulary_options vocabulary;
        ft_generate_options generate;
        ft_prediction best;
        ft_node bias;
        memset(&options, 0, sizeof options);
        memset(&vocabulary, 0, sizeof vocabulary);
        memset(&generate, 0, sizeof generate);
        ft_set_tokenizer(m, ft_tokenizer_build(m, FT_CHARACTERS, texts, 1, vocabulary));
        options.words = ft_tokenizer_count(ft_get_tokenizer(m));
        options.hidden = options.embedding = 4;
        options.layers = 1;
        ft_network(m, networks[i], options);
        generate.length = 2;
        ft_set_length(m, 7);
        if (i) CHECK(ft_predict_text(m, "some", 4, &best, 1) == 1, "%s", ft_error_text(m));
        else CHECK(ft_generate(m, generate) == 2, "%s", ft_error_text(m));
        CHECK(ft_length(m) == 7, "%s leaves the length %d", networks[i], ft_length(m));
        bias = ft_find(m, i ? "gru.bias_hh_l0" : "lstm.bias_hh_l0");
        {
            float numbers_of[16];
            size_t count = i ? 12 : 16;
            memset(numbers_of, 0, sizeof numbers_of);
            memcpy(numbers_of, bad, sizeof bad);
            CHECK(ft_set(m, bias, numbers_of, count) == FT_OK, "%s", ft_error_text(m));
        }
        if (i) CHECK(ft_predict_text(m, "some", 4, &best, 1) == 0, "a class");
        else CHECK(ft_generate(m, generate) == 0, "tokens");
        expect(m, FT_NOT_FINITE, networks[i], "bias_hh_l0");
        ft_destroy(m);
    }
}

/* Token ids that are no words are named, not hidden by what follows. */
static void test_unknown_ids(void)
{
    ft_model *m = new_model();
    ft_embedding_options o;
    int ids[2] = {1, 9};
    float got[4];
    memset(&o, 0, sizeof o);
    ft_set_output(m, ft_embedding(m, "words", add_input(m, "tokens", FT_I32, 0, 0, 0), 5, 2, o));
    ft_run(m, ids, 2, got, 4);
    expect(m, FT_NOT_FINITE, "id 9 of 5 words", "9, not a word");
    ids[1] = -1;
    CHECK(ft_run(m, ids, 2, got, 4) == FT_OK && CLOSE(got[2], 0, 0), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Regression ---- */

/* y = (2 x, 10 - x) of x = 0 .. 9, and the weights of (2.5 x, 10 - x). */
static bool line_get(void *user, int index, int view, ft_slot *slots, int count)
{
    int k;
    (void)user;
    (void)view;
    for (k = 0; k < count; ++k) {
        float *to = (float *)slots[k].values;
        if (strcmp(slots[k].name, "target") == 0) {
            to[0] = 2 * (float)index;
            to[1] = 10 - (float)index;
        } else to[0] = (float)index;
    }
    return true;
}

static double seen_accuracy, seen_held_back;

static bool see(void *user, const ft_progress *p)
{
    (void)user;
    seen_accuracy = p->accuracy;
    if (p->epoch_done) seen_held_back = p->held_back_accuracy;
    return true;
}

static void test_regression(void)
{
    static const float weight[2] = {2.5f, -1}, bias[2] = {0, 10};
    ft_model *m = new_model();
    ft_node x = linear(m, "fc", add_input(m, "input", FT_F32, 1, 0, 0), 2);
    ft_source source;
    ft_evaluation e;
    ft_evaluate_options evaluate;
    ft_fit_options fit;
    ft_fit_result r;
    ft_data *data;
    memset(&source, 0, sizeof source);
    memset(&evaluate, 0, sizeof evaluate);
    memset(&fit, 0, sizeof fit);
    ft_set_output(m, x);
    ft_set_loss(m, ft_mse(m, "loss", x, add_input(m, "target", FT_F32, 2, 0, 0)));
    source.count = 10;
    source.get = line_get;
    data = ft_data_source(m, source);
    ft_set(m, ft_find(m, "fc.weight"), weight, 2);
    ft_set(m, ft_find(m, "fc.bias"), bias, 2);
    evaluate.batch_size = 3;
    e = ft_evaluate(m, data, evaluate);
    /* squared errors: (x / 2)^2, mean 28.5 / 4, over two outputs; variance of 2 x: 4 * 8.25 */
    CHECK(e.regression && CLOSE(e.mse, 28.5 / 8, 1e-6) && CLOSE(e.loss, 28.5 / 8, 1e-6), "mse %g,"
          " loss %g", e.mse, e.loss);
    CHECK(CLOSE(e.r2, (1 - (28.5 / 4) / 33 + 1) / 2, 1e-6), "R2 %g", e.r2);
    CHECK(e.correct == 0 && e.total == 10 && e.accuracy < 0 && e.low < 0 && e.high < 0,
          "accuracy %g (%g to %g), %d of %d", e.accuracy, e.low, e.high, e.correct, e.total);
    fit.epochs = 3;
    fit.batch_size = 5;
    fit.hold_back = 0.2f;
    fit.best = true;
    fit.progress = see;
    r = ft_fit(m, data, fit);
    CHECK(r.accuracy < 0 && r.held_back_accuracy < 0 && r.loss > 0 && r.held_back_loss >= 0
          && r.held_back_total == 2, "ft_fit: accuracy %g, held back %g", r.accuracy,
          r.held_back_accuracy);
    CHECK(seen_accuracy < 0 && seen_held_back < 0, "progress: %g, %g", seen_accuracy,
          seen_held_back);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Budgets ---- */

static ft_model *in_budget(const char *network, size_t budget)
{
    ft_desc desc;
    ft_network_options o;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    memset(&o, 0, sizeof o);
    desc.threads = 2;
    desc.seed = 5;
    desc.memory_budget = budget;
    m = ft_create(desc);
    ft_network(m, network, o);
    return m;
}

/* The least budget that ft_plan accepts, to within 1 KB. */
static size_t least_budget(const char *network, int batch, bool training, size_t *total)
{
    size_t low = 0, high;
    ft_model *m = in_budget(network, 0);
    *total = high = ft_plan(m, batch, training).total;
    ft_destroy(m);
    while (high - low > 1024) {
        size_t middle = low + (high - low) / 2;
        m = in_budget(network, middle);
        ft_plan(m, batch, training);
        if (ft_error(m)) low = middle;
        else high = middle;
        ft_destroy(m);
    }
    return high;
}

static float numbers[2 * 3 * 32 * 32];

/* Where a budget leaves no room for prepared weights, they are prepared in each run: most of what
   the prediction of one picture takes, and the same bits. */
static void test_least_plan(void)
{
    static const char *const networks[] = {"resnet20", "keras_cnn"};
    size_t i, k;
    for (k = 0; k < sizeof numbers / sizeof *numbers; ++k) numbers[k] = (float)(k % 13) / 7 - 1;
    for (i = 0; i < 2; ++i) {
        size_t total, least = least_budget(networks[i], 1, false, &total);
        float want[3][10], got[3][10];
        int round, run;
        CHECK(2 * least < total + total / 10, "%s: %zu bytes at the least, %zu with room",
              networks[i], least, total);
        for (round = 0; round < 4; ++round) { /* without; with all, the half, none of the room */
            size_t budget = round == 0 ? 0 : round == 1 ? total : round == 2 ? (total + least) / 2
                : least;
            ft_model *m = in_budget(networks[i], budget);
            for (run = 0; run < 3; ++run) {
                if (run == 2) { /* other weights: they are prepared anew in any plan */
                    ft_initialise(m, "*", FT_INIT_XAVIER_UNIFORM);
                }
                ft_run(m, numbers, 1, got[run], 10);
            }
            CHECK(ft_error(m) == FT_OK, "%s in %zu: %s", networks[i], budget, ft_error_text(m));
            if (round == 0) memcpy(want, got, sizeof want);
            CHECK(memcmp(want, got, sizeof want) == 0, "%s in %zu: other bits", networks[i],
                  budget);
            ft_destroy(m);
        }
    }
}

/* The least that training takes is enough for a prediction after it, and to train on. */
static void test_training_budget(void)
{
    static const char *const networks[] = {"resnet20", "keras_cnn"};
    int labels[2] = {0, 1}, step;
    size_t i, total;
    for (i = 0; i < 2; ++i) {
        size_t least = least_budget(networks[i], 2, true, &total);
        ft_model *m = in_budget(networks[i], least);
        float got[20];
        for (step = 0; step < 2; ++step) {
            ft_feed(m, ft_find(m, "input"), numbers, 2);
            ft_feed(m, ft_find(m, "labels"), labels, 2);
            ft_forward(m, true);
            ft_backward(m);
            ft_update(m, 1e-3f);
            CHECK(ft_error(m) == FT_OK, "%s trains in %zu of %zu: %s", networks[i], least, total,
                  ft_error_text(m));
            ft_run(m, numbers, 2, got, 20);
            CHECK(ft_error(m) == FT_OK, "%s predicts in %zu: %s", networks[i], least,
                  ft_error_text(m));
        }
        ft_destroy(m);
    }
}

static ft_model *called;
static ft_data *called_data;
static size_t called_runs;

static bool predict_meanwhile(void *user, const ft_progress *p)
{
    float got[20];
    ft_evaluate_options o;
    (void)user;
    (void)p;
    memset(&o, 0, sizeof o);
    o.batch_size = 2;
    ft_evaluate(called, called_data, o);
    ft_run(called, numbers, 2, got, 20);
    if (ft_error(called) == FT_OK) called_runs += 1;
    ft_clear_error(called); /* no room: the plan of the training stays */
    return true;
}

/* ft_fit and ft_evaluate in turns, and a prediction while a training goes on: its plan stays. */
static void test_fit_budget(void)
{
    size_t total, budget = least_budget("resnet20", 2, true, &total);
    int labels[2] = {0, 1}, round;
    bool trained = false;
    for (round = 0; round < 8 && !trained; ++round, budget += budget / 8) {
        ft_model *m = in_budget("resnet20", budget);
        ft_array_options arrays;
        ft_fit_options fit;
        ft_evaluate_options evaluate;
        ft_data *data;
        memset(&arrays, 0, sizeof arrays);
        memset(&fit, 0, sizeof fit);
        memset(&evaluate, 0, sizeof evaluate);
        data = ft_arrays(m, 2, numbers, labels, arrays);
        fit.epochs = 1;
        ft_fit(m, data, fit);
        trained = ft_error(m) == FT_OK;
        if (trained) {
            ft_evaluate(m, data, evaluate);
            CHECK(ft_error(m) == FT_OK, "evaluates in %zu: %s", budget, ft_error_text(m));
            called = m;
            called_data = data;
            fit.progress = predict_meanwhile;
            ft_fit(m, data, fit);
            CHECK(ft_error(m) == FT_OK, "trains on in %zu: %s", budget, ft_error_text(m));
        }
        ft_destroy(m);
    }
    CHECK(trained, "no budget up to %zu was enough", budget);
}

static bool train_meanwhile(void *user, const ft_progress *p)
{
    ft_fit_options o;
    (void)user;
    (void)p;
    memset(&o, 0, sizeof o);
    o.epochs = 1;
    ft_freeze(called, "fc.bias");
    ft_fit(called, called_data, o);
    return true;
}

/* A call from inside a callback may not pull the run's memory away from under it. */
static void test_call_inside(void)
{
    float x[3 * SIDE * SIDE] = {0};
    int labels[3] = {0, 1, 2};
    ft_array_options arrays;
    ft_fit_options fit;
    memset(&arrays, 0, sizeof arrays);
    memset(&fit, 0, sizeof fit);
    called = pictures();
    called_data = ft_arrays(called, 3, x, labels, arrays);
    fit.epochs = 2;
    fit.batch_size = 2;
    fit.progress = train_meanwhile;
    ft_fit(called, called_data, fit);
    expect(called, FT_INVALID, "ft_fit inside ft_fit", "callback");
    ft_destroy(called);
}

/* ---- Batches larger than the data, and the recipe ---- */

static size_t recipe_most;
static int recipe_epochs[3];

static bool see_recipe(void *user, const ft_progress *p)
{
    (void)user;
    if ((size_t)p->batch > recipe_most) recipe_most = (size_t)p->batch;
    recipe_epochs[strcmp(p->stage, "trial") == 0 ? 0 : strcmp(p->stage, "head") == 0 ? 1 : 2] =
        p->epochs;
    return true;
}

/* Twelve samples, of which no batch has more: memory for so many is taken. */
static void test_large_batch(void)
{
    enum { SAMPLES_OF_ALL = 12 };
    float x[SAMPLES_OF_ALL * SIDE * SIDE];
    int labels[SAMPLES_OF_ALL], i;
    for (i = 0; i < SAMPLES_OF_ALL * SIDE * SIDE; ++i) x[i] = (float)(i % 7);
    for (i = 0; i < SAMPLES_OF_ALL; ++i) labels[i] = i % 3;
    for (i = 0; i < 2; ++i) {
        ft_model *m;
        ft_desc desc;
        ft_fit_options fit;
        ft_array_options arrays;
        ft_evaluate_options evaluate;
        memset(&desc, 0, sizeof desc);
        memset(&fit, 0, sizeof fit);
        memset(&arrays, 0, sizeof arrays);
        memset(&evaluate, 0, sizeof evaluate);
        desc.threads = 1;
        desc.memory_budget = 4 << 20;
        m = ft_create(desc);
        cross_entropy(m, linear(m, "fc", ft_flatten(m, "flat", add_input(m, "input", FT_F32, 1, SIDE,
                                                                     SIDE)), 3));
        fit.epochs = 1;
        fit.batch_size = evaluate.batch_size = i ? INT_MAX : 100000;
        fit.hold_back = i ? 0.25f : 0;
        fit.progress = see_recipe;
        recipe_most = 0;
        ft_fit(m, ft_arrays(m, SAMPLES_OF_ALL, x, labels, arrays), fit);
        CHECK(ft_error(m) == FT_OK && recipe_most == (i ? 9 : 12), "%zu in a batch; %s",
              recipe_most, ft_error_text(m));
        ft_evaluate(m, ft_arrays(m, SAMPLES_OF_ALL, x, labels, arrays), evaluate);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* What ft_finetune is told of batches and epochs holds in the trial too; samples that are no images
   are not called so; and a head for these classes is gone on from, not drawn anew. */
static void test_recipe(void)
{
    enum { ALL = 60 };
    static float x[ALL * SIDE * SIDE];
    int labels[ALL], i;
    float bias[3], before[3] = {5, -3, 1};
    ft_model *m = pictures();
    ft_finetune_options o;
    ft_finetune_result r;
    ft_array_options arrays;
    ft_data *data;
    memset(&o, 0, sizeof o);
    memset(&arrays, 0, sizeof arrays);
    for (i = 0; i < ALL; ++i) labels[i] = i % 3;
    for (i = 0; i < ALL * SIDE * SIDE; ++i)
        x[i] = (float)((i / (SIDE * SIDE)) % 3) + (float)(i % 5) / 10;
    data = ft_arrays(m, ALL, x, labels, arrays);
    o.epochs = 2;
    o.batch_size = 4;
    o.progress = see_recipe;
    recipe_most = 0;
    r = ft_finetune(m, data, o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(recipe_most == 4 && recipe_epochs[0] == 2 && recipe_epochs[1] == 2, "batches of %zu, %d"
          " epochs of the trial, %d of the head", recipe_most, recipe_epochs[0], recipe_epochs[1]);
    CHECK(strstr(r.choice, "held-back samples") && strstr(r.choice, "a new head"), "%s", r.choice);
    ft_set(m, ft_find(m, "fc.bias"), before, 3);
    o.learning_rate = 1e-12f;
    r = ft_finetune(m, data, o);
    ft_get(m, ft_find(m, "fc.bias"), bias, 3);
    CHECK(strstr(r.choice, "the model's own head"), "%s", r.choice);
    for (i = 0; i < 3; ++i)
        CHECK(CLOSE(bias[i], before[i], 0.5), "bias %d: %g", i, (double)bias[i]);
    ft_destroy(m);
}

int main(void)
{
    test_least_plan();
    test_training_budget();
    test_fit_budget();
    test_large_batch();
    test_recipe();
    test_regression();
    test_two_inputs();
    test_run_arguments();
    test_unfilled();
    test_many_inputs();
    test_texts_not_finite();
    test_call_inside();
    test_weights_not_finite();
    test_output_not_finite();
    test_unknown_ids();
    test_cut_batches();
    test_length_stays();
    test_get_after_longer();
    return check_done("test_runs");
}
