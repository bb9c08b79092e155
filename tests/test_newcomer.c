/* test_newcomer.c - what a new user runs into: class names after ft_fit, heads and vocabularies of
   another size, a small memory budget, and messages that say which option is wrong. */
#include "public.h"
#include <sys/stat.h>

#define ROOT "build/newcomer_test"

static char said[8192]; /* the log's lines */

static void keep_line(void *user, const char *line)
{
    (void)user;
    if (strlen(said) + strlen(line) + 2 < sizeof said) strcat(strcat(said, line), "\n");
}

static ft_model *new_model(size_t budget)
{
    ft_desc desc = {.seed = 3, .threads = 2, .log = keep_line, .memory_budget = budget};
    said[0] = 0;
    return ft_create(desc);
}

/* The last call failed with just this status and text; then the error is cleared. */
static void failed(ft_model *m, ft_status status, const char *text)
{
    CHECK(ft_error(m) == status && !strcmp(ft_error_text(m), text), "'%s' is expected, not '%s'", text,
          ft_error_text(m));
    ft_clear_error(m);
}

/* ---- Pictures: two classes, 150 of each ---- */
enum { EACH = 150, SIDE = 32 };

static void make_pictures(void)
{
    static const char *const classes[] = {"dark", "light"};
    unsigned char pixels[3 * SIDE * SIDE];
    char path[200];
    int c, i;
    size_t k;
    mkdir("build", 0777);
    mkdir(ROOT, 0777);
    for (c = 0; c < 2; ++c) {
        snprintf(path, sizeof path, ROOT "/%s", classes[c]);
        mkdir(path, 0777);
        for (i = 0; i < EACH; ++i) {
            FILE *file;
            snprintf(path, sizeof path, ROOT "/%s/%d.ppm", classes[c], i);
            file = fopen(path, "wb");
            for (k = 0; k < sizeof pixels; ++k)
                pixels[k] = (unsigned char)(100 * c + (int)(k * (size_t)(i + 3) % 101));
            CHECK(file && fprintf(file, "P6 %d %d 255\n", SIDE, SIDE) > 0
                  && fwrite(pixels, 1, sizeof pixels, file) == sizeof pixels, "%s", path);
            if (file) fclose(file);
        }
    }
}

/* A small network, of which all but the last layer is frozen. */
static ft_model *picture_model(size_t budget, int classes)
{
    ft_preprocessing p = {.width = SIDE, .height = SIDE, .channels = 3, .resize = SIDE,
                          .std = {1, 1, 1}};
    ft_conv2d_options conv = {.kernel = {3}, .stride = {2}};
    ft_linear_options linear = {.no_bias = false};
    ft_pool2d_options pool = {.kernel = {3}, .stride = {2}};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_model *m = new_model(budget);
    ft_node x, labels;
    ft_set_preprocessing(m, p);
    x = ft_input(m, "input", (ft_input_options){.size = {3, SIDE, SIDE}});
    labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    x = ft_conv2d(m, "conv", x, 4, conv);
    x = ft_max_pool2d(m, "pool", ft_activation(m, "relu", "relu", x, (ft_activation_options){0}), pool);
    x = ft_linear(m, "fc", ft_flatten(m, "flat", x), classes, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, loss));
    ft_freeze(m, "conv*");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static bool can_decode(void)
{
    ft_model *m = picture_model(0, 2);
    bool can = ft_image_folder(m, ROOT, (ft_image_folder_options){0}) != NULL;
    if (!can) SKIP(ft_error_text(m));
    ft_destroy(m);
    return can;
}

static void test_names_of_pictures(void)
{
    static const char *const own[] = {"night", "day"};
    ft_fit_options fit = {.epochs = 1};
    ft_model *m = picture_model(0, 5);
    ft_replace_head(m, 2);
    ft_fit(m, ft_image_folder(m, ROOT, (ft_image_folder_options){0}), fit);
    CHECK(ft_class_name(m, 0) && !strcmp(ft_class_name(m, 0), "dark") && ft_class_name(m, 1)
          && !strcmp(ft_class_name(m, 1), "light"), "a model without names takes the data's: %s",
          ft_error_text(m));
    CHECK(!strstr(said, "outputs"), "%s", said);
    ft_save(m, ROOT "/named.safetensors", (ft_save_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model(0);
    ft_load(m, ROOT "/named.safetensors", (ft_load_options){0});
    CHECK(ft_class_name(m, 1) && !strcmp(ft_class_name(m, 1), "light"), "the file has the names: %s",
          ft_error_text(m));
    ft_set_class_names(m, 2, own);
    ft_fit(m, ft_image_folder(m, ROOT, (ft_image_folder_options){0}), fit);
    CHECK(!strcmp(ft_class_name(m, 0), "night"), "the model's own names stay");
    ft_destroy(m);
}

static void test_other_head(void)
{
    ft_fit_options fit = {.epochs = 1};
    ft_model *m = picture_model(0, 1000);
    ft_fit(m, ft_image_folder(m, ROOT, (ft_image_folder_options){0}), fit);
    CHECK(strstr(said, "the network has 1000 outputs, the data 2 classes: ft_replace_head gives it a"
                 " head for them\n"), "%s%s", said, ft_error_text(m));
    CHECK(!ft_class_name(m, 0), "2 names do not name 1000 outputs");
    ft_destroy(m);
}

static void test_match_pictures(void)
{
    ft_model *m = picture_model(0, 2);
    ft_image_folder_options o = {.match_classes = true};
    CHECK(!ft_image_folder(m, ROOT, o), "there is nothing to match");
    failed(m, FT_INVALID, ROOT ": the model has no class names to match (ft_set_class_names, --labels)");
    ft_destroy(m);
}

/* With any budget in which the run succeeds the features are computed once, if need be in the
   memory of the decoded pictures; and the bits are the same. */
static void test_budget(void)
{
    uint64_t want = 0, got;
    size_t budget;
    int released = 0, kept = 0, failures = 0;
    for (budget = 0; budget < 2300000; budget += budget ? 40000 : 1500000) {
        ft_image_folder_options o = {.cache_bytes = 1 << 20};
        ft_fit_options fit = {.epochs = 2, .batch_size = 8};
        ft_model *m = picture_model(budget, 2);
        ft_fit(m, ft_image_folder(m, ROOT, o), fit);
        if (!ft_error(m)) {
            CHECK(!strstr(said, "computed again"), "in %zu: %s", budget, said);
            released += strstr(said, "are released") != NULL;
            kept += budget && !strstr(said, "are released");
            got = fingerprint(m);
            if (!budget) want = got;
            CHECK(got == want, "in %zu: other bits", budget);
        } else {
            failures += 1;
            CHECK(ft_error(m) == FT_MEMORY, "in %zu: %s", budget, ft_error_text(m));
        }
        ft_destroy(m);
    }
    CHECK(failures && released && kept, "%d fail, %d release, %d keep", failures, released, kept);
}

/* ---- Texts ---- */

static ft_data *table(ft_model *m, const char *text, ft_text_options o)
{
    o.memory = text;
    o.bytes = strlen(text);
    if (!o.format) o.format = "tsv";
    return ft_texts(m, NULL, o);
}

static const char reviews[] = "a good film\tpos\na bad film\tneg\ngood\tpos\nbad, so bad\tneg\n";

static ft_network_options small(void)
{
    ft_network_options o = {.classes = 2, .embedding = 4, .hidden = 4};
    return o;
}

static void test_words(void)
{
    ft_fit_options fit = {.epochs = 1};
    ft_network_options o = small();
    ft_model *m = new_model(0);
    ft_data *data = table(m, reviews, (ft_text_options){0});
    int pieces = ft_tokenizer_count(ft_get_tokenizer(m));
    ft_network(m, "lstm_classifier", o);
    CHECK(ft_node_shape(m, ft_find(m, "embedding.weight")).size[0] == pieces,
          "an embedding for the tokeniser's %d pieces, not %d", pieces,
          ft_node_shape(m, ft_find(m, "embedding.weight")).size[0]);
    ft_fit(m, data, fit);
    CHECK(ft_error(m) == FT_OK && ft_class_name(m, 0) && !strcmp(ft_class_name(m, 0), "neg"),
          "the names of the texts' classes: %s", ft_error_text(m));
    ft_destroy(m);
    m = new_model(0);
    data = table(m, reviews, (ft_text_options){0});
    o.words = pieces - 1;
    ft_network(m, "gru_classifier", o);
    ft_fit(m, data, fit);
    {
        char text[200];
        snprintf(text, sizeof text, "the tokeniser has %d pieces, but the embedding has %d rows: set"
                 " ft_network_options.words", pieces, pieces - 1);
        failed(m, FT_SHAPE, text);
        ft_evaluate(m, data, (ft_evaluate_options){0});
        failed(m, FT_SHAPE, text);
    }
    ft_destroy(m);
    m = new_model(0);
    ft_network(m, "char_rnn", (ft_network_options){.hidden = 4});
    CHECK(ft_node_shape(m, ft_find(m, "embedding.weight")).size[0] == 65, "without a tokeniser");
    ft_destroy(m);
}

static void test_match_texts(void)
{
    ft_model *m = new_model(0);
    CHECK(!table(m, reviews, (ft_text_options){.match_classes = true}), "nothing to match");
    failed(m, FT_INVALID, "(memory): the model has no class names to match (ft_set_class_names, --labels)");
    ft_destroy(m);
}

static void test_columns(void)
{
    static const char plain[] = "fine\t0\nbad\t1\nok\t0\npoor\t1\n", named[] = "x\t0\nfine\tp\nbad\tn\n";
    static const struct { const char *table, *text, *label; ft_table_header header; ft_status status;
                          const char *says; } all[] = {
        {plain, "0", "1", FT_HEADER_AUTO, FT_FORMAT,
         "(memory): column 0 was not found: line 1 has 2 columns, which count from 1"},
        {plain, "1", "0", FT_HEADER_NO, FT_FORMAT,
         "(memory): column 0 was not found: line 1 has 2 columns, which count from 1"},
        {plain, "0", NULL, FT_HEADER_YES, FT_OK, ""}, /* there, a column's name */
        {plain, "3", NULL, FT_HEADER_YES, FT_FORMAT,
         "(memory): column 3 was not found: line 1 has 2 columns, which count from 1"},
        {plain, "4294967297", NULL, FT_HEADER_AUTO, FT_FORMAT,
         "(memory): column 4294967297 was not found: line 1 has 2 columns, which count from 1"},
        {plain, "1", "2", FT_HEADER_AUTO, FT_OK, ""},
        {named, "x", "0", FT_HEADER_YES, FT_OK, ""},
        {named, "x", "0", FT_HEADER_AUTO, FT_FORMAT,
         "(memory): column 0 was not found: line 1 has 2 columns, which count from 1"},
        {named, "sentence", NULL, FT_HEADER_AUTO, FT_FORMAT,
         "(memory): line 1 has no column named sentence: x, 0 (a column may also be a number, from 1)"},
        {named, "sentence", NULL, FT_HEADER_NO, FT_INVALID, "(memory): a column is given by name,"
         " sentence, but header says that there is no header line: give its number, from 1"},
        {named, "x", NULL, FT_HEADER_NO, FT_INVALID, "(memory): a column is given by name, x, but"
         " header says that there is no header line: give its number, from 1"}};
    size_t i;
    for (i = 0; i < sizeof all / sizeof *all; ++i) {
        ft_model *m = new_model(0);
        ft_data *data = table(m, all[i].table, (ft_text_options){.text_column = all[i].text,
            .label_column = all[i].label, .header = all[i].header});
        CHECK((data != NULL) == (all[i].status == FT_OK), "%zu: %s", i, ft_error_text(m));
        failed(m, all[i].status, all[i].says);
        if (i == 5) CHECK(ft_data_count(data) == 4, "%d", ft_data_count(data));
        ft_destroy(m);
    }
    {
        /* A number is a number, even if a field of the first line looks like it. */
        ft_model *m = new_model(0);
        ft_data *data = table(m, "fine\t1\nbad\t2\nok\t1\npoor\t2\n", (ft_text_options){.text_column = "1"});
        CHECK(ft_data_count(data) == 4 && !strcmp(ft_data_name(data, 0), "fine"), "%s, %s",
              ft_data_name(data, 0), ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Messages ---- */

static void test_fit_options(void)
{
    static const struct { ft_fit_options o; const char *says; } all[] = {
        {{.hold_back = 25}, "ft_fit: hold_back is 25; it must be at least 0 and below 1"},
        {{.schedule = (ft_schedule)99}, "ft_fit: schedule is 99; it must be FT_CONSTANT to FT_PLATEAU"},
        {{.epochs = -1}, "ft_fit: epochs is -1; it must be finite and not negative"},
        {{.batch_size = -2}, "ft_fit: batch_size is -2; it must be finite and not negative"},
        {{.warmup_epochs = -0.5f}, "ft_fit: warmup_epochs is -0.5; it must be finite and not negative"},
        {{.warmup_epochs = 2e6f}, "ft_fit: warmup_epochs is 2e+06; it must be at most 1e6"}};
    ft_model *m = new_model(0);
    ft_data *data = table(m, reviews, (ft_text_options){0});
    size_t i;
    ft_network(m, "lstm_classifier", small());
    for (i = 0; i < sizeof all / sizeof *all; ++i) {
        ft_fit(m, data, all[i].o);
        failed(m, FT_INVALID, all[i].says);
    }
    CHECK(!ft_class_name(m, 0), "a refused run names no classes");
    ft_finetune(m, data, (ft_finetune_options){.batch_size = -3});
    failed(m, FT_INVALID, "ft_finetune: batch_size is -3; it must not be negative");
    ft_destroy(m);
}

static void test_layers(void)
{
    ft_model *m = new_model(0);
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {3}}), flat, a;
    float numbers[6];
    flat = ft_input(m, "flat", (ft_input_options){0});
    ft_linear(m, "a", flat, 2, (ft_linear_options){0});
    failed(m, FT_SHAPE, "a: a linear layer needs an input [N, features], this one is [N]");
    a = ft_linear(m, "a", x, 2, (ft_linear_options){0});
    CHECK(a.id, "%s", ft_error_text(m));
    ft_get_gradient(m, a, numbers, 6);
    failed(m, FT_INVALID, "a: has no gradient: it is not a parameter; the layer has the parameter \"a.weight\","
           " nor asked for with ft_want_gradient");
    ft_get_gradient(m, x, numbers, 6);
    failed(m, FT_INVALID, "x: has no gradient: it is not a parameter, nor asked for with ft_want_gradient");
    ft_get_gradient(m, ft_find(m, "a.weight"), numbers, 6);
    failed(m, FT_INVALID, "a.weight: has no gradient: no training step was run (ft_forward, ft_backward)");
    ft_freeze(m, "a.weight");
    ft_get_gradient(m, ft_find(m, "a.weight"), numbers, 6);
    failed(m, FT_INVALID, "a.weight: has no gradient: it is frozen (ft_unfreeze)");
    ft_destroy(m);
}

static void test_threads(void)
{
    ft_desc desc = {.threads = -1};
    ft_model *m = ft_create(desc);
    failed(m, FT_INVALID, "ft_create: threads is -1; it must be at least 0 (0: one per processor)");
    ft_destroy(m);
}

/* ---- Options without effect, and what the library changes ---- */

static void test_no_effect(void)
{
    ft_vocabulary_options vocabularies[4] = {{.minimum_count = 2}, {.most = 9}, {.cased = true},
                                             {.spaces_only = true}};
    ft_model *m = new_model(0);
    ft_text_options o = {.format = "xls"};
    int i;
    CHECK(!table(m, reviews, o), "format xls");
    failed(m, FT_INVALID, "(memory): format is \"xls\"; it must be \"tsv\", \"csv\" or \"jsonl\"");
    CHECK(!ft_text_streams(m, NULL, (ft_stream_options){.memory = "a", .bytes = 1, .table = true,
                                                        .format = ".csv"}), "format .csv");
    failed(m, FT_INVALID, "(memory): format is \".csv\"; it must be \"tsv\", \"csv\" or \"jsonl\"");
    CHECK(table(m, reviews, (ft_text_options){0}) != NULL, "%s", ft_error_text(m));
    for (i = 0; i < 4; ++i) {
        CHECK(!table(m, reviews, (ft_text_options){.tokenizer = ft_get_tokenizer(m),
                                                   .vocabulary = vocabularies[i]}), "%d", i);
        failed(m, FT_INVALID, "vocabulary has no effect here: it is for a tokeniser that is built from"
               " the texts, but tokenizer is set");
    }
    CHECK(table(m, reviews, (ft_text_options){.tokenizer = ft_get_tokenizer(m)}) != NULL, "%s",
          ft_error_text(m));
    ft_set_optimizer(m, (ft_optimizer_options){.momentum = 0, .learning_rate = 0.5f});
    CHECK(strstr(said, "ft_set_optimizer: learning_rate 0.5 has no effect: ft_update is given one"),
          "%s", said);
    ft_destroy(m);
}

static void test_classes_of_a_file(void)
{
    ft_load_options load = {.weights = {.rename = NULL}};
    ft_model *m = new_model(0);
    ft_network(m, "resnet20", (ft_network_options){.classes = 10});
    ft_save(m, ROOT "/ten.safetensors", (ft_save_options){.type = FT_F32});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    for (load.network.classes = 9; load.network.classes < 11; ++load.network.classes) {
        m = new_model(0);
        ft_load(m, ROOT "/ten.safetensors", load);
        CHECK(ft_class_count(m) == load.network.classes
              && !strstr(said, "its head of 10 classes is replaced by a new one for the 9 of")
                 == (load.network.classes == 10), "%s\n%s", ft_error_text(m), said);
        ft_destroy(m);
    }
}

/* ---- Which samples ft_fit holds back: those on which it counted that many right ---- */

static void test_held_back(void)
{
    enum { COUNT = 60, SEEDS = 3 };
    static float x[COUNT][2];
    static int y[COUNT], held[SEEDS][COUNT], again[COUNT];
    int seed, i, c, right, count[SEEDS] = {0}, classes[3];
    for (i = 0; i < COUNT; ++i) { /* so noisy that about half are right */
        y[i] = i * 7 % 3;
        x[i][0] = (float)(i * 37 % 19) / 9 + 0.4f * (float)y[i];
        x[i][1] = (float)(i * 53 % 23) / 11;
    }
    for (seed = 0; seed < SEEDS; ++seed) {
        ft_desc desc = {.seed = (uint64_t)seed + 1, .threads = 1};
        ft_model *m = ft_create(desc);
        ft_node logits = ft_linear(m, "fc", ft_input(m, "input", (ft_input_options){.size = {2}}), 3,
                                   (ft_linear_options){0});
        ft_data *data = ft_arrays(m, COUNT, x[0], y, (ft_array_options){.classes = 3});
        ft_fit_result result;
        float out[COUNT * 3];
        ft_set_output(m, logits);
        ft_set_loss(m, ft_cross_entropy(m, "loss", logits, ft_input(m, "labels", (ft_input_options){
            .type = FT_I32}), (ft_loss_options){0}));
        count[seed] = ft_data_held_back(data, 0.3f, held[seed], COUNT);
        result = ft_fit(m, data, (ft_fit_options){.epochs = 3, .hold_back = 0.3f});
        CHECK(ft_error(m) == FT_OK && count[seed] == 18 && result.held_back_total == 18,
              "%d of %d; %s", count[seed], result.held_back_total, ft_error_text(m));
        ft_run(m, x[0], COUNT, out, COUNT * 3);
        memset(classes, 0, sizeof classes);
        for (right = i = 0; i < count[seed]; ++i) {
            int at = held[seed][i], best = 0;
            for (c = 1; c < 3; ++c) if (out[3 * at + c] > out[3 * at + best]) best = c;
            right += best == y[at];
            classes[y[at]] += 1;
            CHECK(i == 0 || at > held[seed][i - 1], "ascending, each once");
        }
        CHECK(right == result.held_back_correct && right > 0 && right < 18, "%d right, ft_fit says %d",
              right, result.held_back_correct);
        CHECK(classes[0] == 6 && classes[1] == 6 && classes[2] == 6, "a share of each class");
        CHECK(ft_data_held_back(data, 0.3f, again, 5) == 18 && !memcmp(again, held[seed], 5 * sizeof(int))
              && !again[5] && ft_data_held_back(data, 0, NULL, 0) == 0, "room for 5 of them");
        CHECK(ft_data_held_back(data, 1, again, COUNT) == 0, "not all");
        failed(m, FT_INVALID, "hold_back is 1; it must be at least 0 and below 1");
        ft_destroy(m);
    }
    CHECK(memcmp(held[0], held[1], sizeof held[0]) != 0, "the seed draws them");
    CHECK(ft_data_held_back(NULL, 0.5f, again, COUNT) == 0, "no data");
}

int main(void)
{
    make_pictures();
    test_no_effect();
    test_classes_of_a_file();
    test_held_back();
    if (can_decode()) {
        test_names_of_pictures();
        test_other_head();
        test_match_pictures();
        test_budget();
    }
    test_words();
    test_match_texts();
    test_columns();
    test_fit_options();
    test_layers();
    test_threads();
    return check_done("test_newcomer");
}
