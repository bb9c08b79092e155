/* test_edges.c - limits that only a mutant or a fuzzer crossed: the ranks that locked dropout takes,
   batches of which no sample can be read, ids of a vocabulary. */
#include "check.h"
#include "finetune.h"

/* Over [N, L, C] a feature is dropped in all steps; [V, E] are a weight's words. */
static void test_locked_ranks(void)
{
    static const struct { int size[5]; bool fits; } shapes[] = {
        {{0}, false}, {{4}, true}, {{3, 4}, true}, {{2, 3, 4}, false}, {{2, 2, 3, 4}, false}};
    size_t i;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; ++i) {
        ft_model *m = ft_create((ft_desc){.threads = 1});
        ft_input_options in = {.type = FT_F32};
        memcpy(in.size, shapes[i].size, sizeof in.size);
        ft_dropout(m, "drop", ft_input(m, "input", in),
                   (ft_dropout_options){.probability = 0.5f, .locked = true});
        CHECK(ft_error(m) == (shapes[i].fits ? FT_OK : FT_SHAPE), "shape %d: %s", (int)i,
              ft_error_text(m));
        ft_clear_error(m);
        ft_dropout(m, "free", ft_input(m, "other", in), (ft_dropout_options){.probability = 0.5f});
        CHECK(ft_error(m) == FT_OK, "not locked, shape %d: %s", (int)i, ft_error_text(m));
        ft_dropout(m, "both", ft_find(m, "other"), (ft_dropout_options){.locked = true, .per_sample = true});
        CHECK(ft_error(m) == FT_INVALID, "locked and per sample, shape %d: %s", (int)i, ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Attention's three inputs are [N, steps, features] each ---- */

static void test_attention_ranks(void)
{
    int which, rank;
    for (which = 0; which < 4; ++which)
        for (rank = 2; rank <= 4; rank += 2) {
            ft_model *m = ft_create((ft_desc){.threads = 1});
            ft_node part[3];
            int i;
            for (i = 0; i < 3; ++i) {
                ft_input_options in = {.size = {FT_LENGTH, 4}}, other = {.size = {4}}, four = {.size = {2, FT_LENGTH, 4}};
                part[i] = ft_input(m, i == 0 ? "q" : i == 1 ? "k" : "v", i != which ? in : rank == 2 ? other : four);
            }
            ft_attention(m, "attention", part[0], part[1], part[2], (ft_attention_options){.heads = 1});
            CHECK(ft_error(m) == (which == 3 ? FT_OK : FT_SHAPE), "input %d of rank %d: %s", which, rank,
                  ft_error_text(m));
            ft_destroy(m);
        }
}

/* ---- Batches without samples ---- */

enum { COUNT = 64, SIDE = 4 };

typedef struct source { int readable; } source; /* samples below it */

static bool get(void *user, int index, int view, ft_slot *slots, int count)
{
    const source *s = (const source *)user;
    int i, k;
    (void)view;
    if (index >= s->readable) return false;
    for (i = 0; i < count; ++i) {
        if (strcmp(slots[i].name, "labels") == 0) *(int32_t *)slots[i].values = index % 2;
        else for (k = 0; k < 3 * SIDE * SIDE; ++k)
            ((float *)slots[i].values)[k] = (float)((index * 7 + k * 3) % 11) / 5 - 1;
    }
    return true;
}

static ft_model *make(bool frozen)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 6});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, SIDE, SIDE}});
    x = ft_conv2d(m, "conv", x, 8, (ft_conv2d_options){.kernel = {3}, .padding = {1, 1, 1, 1}});
    x = ft_batch_norm(m, "bn", x, (ft_batch_norm_options){0});
    x = ft_linear(m, "fc", ft_flatten(m, NULL, x), 2, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x,
                                    ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
    if (frozen) ft_freeze(m, "conv*,bn*");
    return m;
}

static bool count_steps(void *user, const ft_progress *p)
{
    if (!p->epoch_done && !p->preparing) *(int *)user += p->batch;
    return true;
}

/* Most batches of 4 hold no sample that can be read: those make no step, whether the layers below are
   frozen, their outputs kept or not, and the loss is that of the others. */
static void test_empty_batches(void)
{
    int form;
    for (form = 0; form < 3; ++form) {
        source s = {.readable = 8};
        ft_model *m = make(form > 0);
        ft_data *data = ft_data_source(m, (ft_source){.user = &s, .count = COUNT, .classes = 2,
                                                      .get = get});
        int seen = 0;
        ft_fit_result r = ft_fit(m, data, (ft_fit_options){.epochs = 3, .batch_size = 4,
                                                           .no_cache = form == 1,
                                                           .progress = count_steps,
                                                           .progress_user = &seen});
        ft_evaluation e;
        CHECK(ft_error(m) == FT_OK && r.epochs == 3, "form %d: %s", form, ft_error_text(m));
        CHECK(seen > 0 && seen <= 3 * 8, "form %d: %d samples were trained on", form, seen);
        CHECK(r.loss > 0 && r.loss < 10, "form %d: a loss of %g", form, r.loss);
        e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 4});
        CHECK(e.total == 8 && e.skipped == COUNT - 8, "form %d: %d of %d, %d left out: %s", form, e.correct,
              e.total, e.skipped, ft_error_text(m));
        ft_destroy(m);
    }
}

/* [N, 1] as [N]: a shape of no sizes but the batch. */
static void test_no_sizes(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_node y = ft_reshape(m, "flat", ft_input(m, "x", (ft_input_options){.size = {1}}), 0, NULL);
    CHECK(ft_error(m) == FT_OK && ft_node_shape(m, y).rank == 1, "%s", ft_error_text(m));
    ft_reshape(m, "wrong", y, -1, NULL);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "has -1 dimensions"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A vocabulary's ids are checked in both of its lists before memory is taken for the largest: one that
   is no number in the first list let an id of the second say how much, and one before it lay behind. */
static void test_vocabulary_ids(void)
{
    static const char *const ids[][2] = {{"15", "33"}, {"0", "1000000"}, {"15", "-1"}, {"-1", "3"}};
    static const char *const last[] = {"1e-9", "\"2\"", "null", "-1", "[]", "0.5"};
    size_t i, k;
    for (i = 0; i < 4; ++i)
        for (k = 0; k < sizeof last / sizeof last[0]; ++k) {
            char text[400];
            ft_model *m = ft_create((ft_desc){.threads = 1});
            int bytes = snprintf(text, sizeof text,
                "{\"added_tokens\":[{\"id\":%s,\"content\":\"[UNK]\",\"special\":true}],\"normalizer\":"
                "{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":%s,"
                "\"a\":1,\"b\":%s}}}", ids[i][0], ids[i][1], last[k]);
            ft_tokenizer *t = ft_tokenizer_load(m, "tokenizer.json", (ft_tokenizer_options){
                .memory = text, .bytes = (size_t)bytes});
            CHECK(!t && ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), "with ids from 0"),
                  "ids %s and %s, then %s: %s", ids[i][0], ids[i][1], last[k], ft_error_text(m));
            ft_destroy(m);
        }
}

int main(void)
{
    test_vocabulary_ids();
    test_locked_ranks();
    test_attention_ranks();
    test_empty_batches();
    test_no_sizes();
    return check_done("test_edges");
}
