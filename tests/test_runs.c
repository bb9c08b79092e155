/* test_runs.c - runs through the public interface: what a batch of sequences of different lengths
   feeds, what a run leaves behind, networks of several inputs, weights and outputs that are not
   finite, and the metric of regression. */
#include "check.h"

#include "finetune.h"

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

static ft_node input(ft_model *m, const char *name, ft_type type, int a, int b, int c)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.type = type;
    o.size[0] = a;
    o.size[1] = b;
    o.size[2] = c;
    return ft_input(m, name, o);
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
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, input(m, "labels", FT_I32, 0, 0, 0), o));
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
            s.in = input(m, "input", FT_F32, shapes[k][0], shapes[k][1], shapes[k][2]);
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
    s.in = input(m, "input", FT_F32, FT_LENGTH, 2, 0);
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
    ft_node in = input(m, "input", FT_F32, FT_LENGTH, 2, 0);
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

int main(void)
{
    test_cut_batches();
    test_length_stays();
    test_get_after_longer();
    return check_done("runs");
}
