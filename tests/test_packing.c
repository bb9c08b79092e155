/* test_packing.c - several documents in one row: the loss and every gradient are those of the
   documents in rows of their own; no step sees another document; rows are filled, and every sample is
   in one of them. */
#include "check.h"
#include "finetune.h"
#include "public.h"

enum { DOCUMENTS = 6, MOST = 40, WORDS = 60 };

static const int lengths[DOCUMENTS] = {7, 1, 12, 3, 9, 5};

static ft_model *network(const char *name, int threads)
{
    ft_desc desc = {.threads = threads, .seed = 5};
    ft_model *m = ft_create(desc);
    ft_network_options o = {.words = WORDS, .hidden = 24, .layers = 2, .heads = 4, .feed_forward = 40,
                            .positions = 64};
    if (strcmp(name, "gpt2") != 0) o.key_value_heads = 2;
    ft_network(m, name, o);
    CHECK(ft_error(m) == FT_OK, "%s: %s", name, ft_error_text(m));
    return m;
}

static int token_of(int document, int step) { return (document * 17 + step * 7 + step * step) % WORDS; }
static int label_of(int document, int step)
{
    return (document + step) % 3 == 0 ? -1 : token_of(document, step + 1);
}

/* Feeds the documents one after the other in a row of `room` steps, or each in a row of its own. */
static void feed(ft_model *m, bool packed, int room)
{
    int32_t tokens[DOCUMENTS * MOST] = {0}, labels[DOCUMENTS * MOST], positions[MOST] = {0};
    int d, t, at = 0, rows = packed ? 1 : DOCUMENTS;
    for (t = 0; t < DOCUMENTS * MOST; ++t) labels[t] = -1;
    for (d = 0; d < DOCUMENTS; ++d) {
        if (!packed) at = d * room;
        for (t = 0; t < lengths[d]; ++t, ++at) {
            tokens[at] = token_of(d, t);
            labels[at] = label_of(d, t);
            if (packed) positions[at] = t;
        }
    }
    ft_set_length(m, room);
    ft_feed(m, ft_find(m, "tokens"), tokens, rows);
    ft_feed(m, ft_find(m, "labels"), labels, rows);
    if (packed) ft_feed(m, ft_find(m, "positions"), positions, rows);
}

static float loss_and_gradients(ft_model *m)
{
    float loss = -1;
    ft_forward(m, true);
    ft_get(m, ft_loss(m), &loss, 1);
    ft_backward(m);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return loss;
}

static void test_same(const char *name, int threads)
{
    ft_model *apart = network(name, threads), *packed = network(name, threads);
    float want, got;
    int i, compared = 0;
    CHECK(ft_set_packed(packed, true) == FT_OK, "%s", ft_error_text(packed));
    CHECK(ft_find(packed, "positions").id != 0, "it has the input");
    feed(apart, false, 12);
    feed(packed, true, 40);
    want = loss_and_gradients(apart);
    got = loss_and_gradients(packed);
    CHECK(want > 0 && fabs((double)(got - want)) <= 2e-6 * (double)want, "%s: loss %g, apart %g", name,
          (double)got, (double)want);
    for (i = 0; i < ft_node_count(apart); ++i) {
        ft_node node = {i + 1}, other = ft_find(packed, ft_node_name(apart, node));
        size_t count, k;
        double largest = 0, worst = 0;
        float *a, *b;
        if (!is_parameter(apart, node)) continue;
        count = numbers_of(apart, node);
        a = (float *)calloc(count, sizeof *a);
        b = (float *)calloc(count, sizeof *b);
        ft_get_gradient(apart, node, a, count);
        ft_get_gradient(packed, other, b, count);
        for (k = 0; k < count; ++k) {
            if (fabs((double)a[k]) > largest) largest = fabs((double)a[k]);
            worst = worse(worst, fabs((double)(a[k] - b[k])));
        }
        CHECK(largest > 0 && worst <= 1e-5 * largest, "%s: %s: the gradient is %g off, of %g", name,
              ft_node_name(apart, node), worst, largest);
        compared += 1;
        free(a);
        free(b);
    }
    CHECK(compared > 10, "%d gradients: %s", compared, ft_error_text(packed));
    /* And back: without the input the same model gives the same loss for rows apart. */
    CHECK(ft_set_packed(packed, false) == FT_OK && ft_find(packed, "positions").id == 0, "taken away");
    feed(packed, false, 12);
    got = loss_and_gradients(packed);
    CHECK(got == want, "%s: taken away, the loss is %.9g, not %.9g", name, (double)got, (double)want);
    CHECK(ft_set_packed(packed, true) == FT_OK && ft_set_packed(packed, true) == FT_OK, "again");
    feed(packed, true, 40);
    CHECK(fabs((double)(loss_and_gradients(packed) - want)) <= 2e-6 * (double)want, "again");
    ft_destroy(packed);
    ft_destroy(apart);
}

/* Other tokens in one document leave the bits of all logits of the others as they are. */
static void test_unseen(const char *name)
{
    enum { ROOM = 40 };
    static float before[ROOM * WORDS], after[ROOM * WORDS];
    ft_model *m = network(name, 2);
    int32_t tokens[ROOM], positions[ROOM], changed, d, t, at = 0, from = 0, end = 0;
    ft_set_packed(m, true);
    ft_keep(m, ft_output(m));
    for (changed = 0; changed < DOCUMENTS; ++changed) {
        int round;
        for (round = 0; round < 2; ++round) {
            for (d = at = 0; d < DOCUMENTS; ++d) {
                if (d == changed) from = at;
                for (t = 0; t < lengths[d]; ++t, ++at) {
                    tokens[at] = token_of(d == changed && round ? d + 31 : d, t);
                    positions[at] = t;
                }
                if (d == changed) end = at;
            }
            for (; at < ROOM; ++at) tokens[at] = positions[at] = 0;
            ft_set_length(m, ROOM);
            ft_feed(m, ft_find(m, "tokens"), tokens, 1);
            ft_feed(m, ft_find(m, "positions"), positions, 1);
            ft_forward(m, false);
            ft_get(m, ft_output(m), round ? after : before, ROOM * WORDS);
        }
        for (t = 0; t < ROOM; ++t) {
            bool same = memcmp(before + t * WORDS, after + t * WORDS, WORDS * sizeof(float)) == 0;
            CHECK(same == (t < from || t >= end), "%s: step %d, document %d from %d to %d was changed",
                  name, (int)t, (int)changed, (int)from, (int)end);
        }
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Completions: packed rows train as rows apart do; the same loss on all of them. */
static void test_data(void)
{
    char text[4096];
    size_t at = 0;
    int i, rows;
    double loss[2];
    ft_completion_options o = {.memory = text, .longest = 24};
    for (i = 0; i < 40; ++i)
        at += (size_t)snprintf(text + at, sizeof text - at, "{\"prompt\":\"%.*s\",\"completion\":\"%.*s\"}\n",
                               1 + i * 5 % 7, "the boats", 1 + i * 3 % 11, " came in, out");
    o.bytes = at;
    for (i = 0; i < 2; ++i) {
        ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 5});
        ft_data *data;
        ft_set_tokenizer(m, ft_tokenizer_load(m, "tests/golden/tokenizers/smollm.json",
                                              (ft_tokenizer_options){0}));
        ft_network(m, "gpt2", (ft_network_options){
            .words = ft_tokenizer_count(ft_get_tokenizer(m)), .hidden = 16, .layers = 1, .heads = 2,
            .feed_forward = 32, .positions = 64});
        o.packed = i == 1;
        data = ft_completions(m, NULL, o);
        rows = ft_data_count(data);
        CHECK(i ? rows > 8 && rows < 25 : rows == 40, "%d rows: %s", rows, ft_error_text(m));
        if (i) {
            ft_evaluate(m, data, (ft_evaluate_options){0});
            CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "ft_set_packed"), "%s",
                  ft_error_text(m));
            ft_clear_error(m);
            ft_set_packed(m, true);
        }
        loss[i] = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 64}).loss;
        ft_fit(m, data, (ft_fit_options){.epochs = 2, .batch_size = 4});
        ft_set_packed(m, false);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_generate(m, (ft_generate_options){.prompt = "the", .length = 3, .greedy = true});
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    CHECK(fabs(loss[0] - loss[1]) <= 1e-5 * loss[0] && loss[0] > 1, "loss %g, packed %g", loss[0], loss[1]);
}

static void test_errors(void)
{
    ft_model *m = network("llama", 1);
    ft_set_packed(NULL, true);
    CHECK(ft_set_packed(m, false) == FT_OK, "nothing to take away");
    ft_destroy(m);
    m = ft_create((ft_desc){.threads = 1});
    ft_network(m, "lstm_lm", (ft_network_options){.words = 9, .hidden = 8});
    CHECK(ft_set_packed(m, true) == FT_INVALID && strstr(ft_error_text(m), "attention"), "%s",
          ft_error_text(m));
    ft_destroy(m);
    m = ft_create((ft_desc){.threads = 1});
    ft_network(m, "bert", (ft_network_options){.words = 9, .hidden = 8, .heads = 2, .classes = 2});
    CHECK(ft_set_packed(m, true) == FT_INVALID, "%s", ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    test_same("gpt2", 1);
    test_same("llama", 1);
    test_same("qwen3", 3); /* heads do not suffice for three threads: gradients in two passes */
    test_unseen("gpt2");
    test_unseen("llama");
    test_data();
    test_errors();
    return check_done("test_packing");
}
