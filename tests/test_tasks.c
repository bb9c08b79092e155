/* test_tasks.c - what is learnt from texts: how it is recognised, said, and refused. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "public.h"
#include "log.h"

static const char reviews[] = "text\tlabel\nthe bread was fresh\tgood\nthe soup was sour\tbad\n"
                              "the cake was sweet\tgood\nthe tea was cold\tbad\n";

static ft_data *read_texts(ft_model *m, const char *table, ft_text_options o)
{
    o.memory = table;
    o.bytes = strlen(table);
    return ft_texts(m, NULL, o);
}

static ft_model *create(void)
{
    log_text[0] = 0;
    return ft_create((ft_desc){.log = collect, .seed = 1, .threads = 1});
}

static void test_names(void)
{
    static const char *const names[] = {"auto", "classification", "regression", "tokens",
                                        "embeddings", "language-model"};
    int task;
    for (task = FT_TASK_AUTO; task <= FT_TASK_LANGUAGE_MODEL; ++task)
        CHECK(!strcmp(ft_task_name((ft_task)task), names[task]), "%d is %s", task,
              ft_task_name((ft_task)task));
    CHECK(!strcmp(ft_task_name((ft_task)77), "auto"), "no task has a name");
    CHECK(ft_data_task(NULL) == FT_TASK_AUTO, "no data");
}

/* What data is for, as its reader recognised it. */
static void test_recognised(void)
{
    ft_model *m = create();
    float values[4] = {0};
    int labels[2] = {0, 1};
    ft_data *data = read_texts(m, reviews, (ft_text_options){0});
    CHECK(ft_data_task(data) == FT_TASK_CLASSIFICATION && ft_data_classes(data) == 2, "reviews");
    CHECK(strstr(log_text, "classification: 4 texts of 2 classes (bad, good)"), "%s", log_text);
    data = read_texts(m, reviews, (ft_text_options){.task = FT_TASK_LANGUAGE_MODEL});
    CHECK(ft_data_task(data) == FT_TASK_LANGUAGE_MODEL && ft_data_count(data) == 4, "texts alone");
    data = ft_arrays(m, 2, values, labels, (ft_array_options){0});
    CHECK(ft_data_task(data) == FT_TASK_CLASSIFICATION, "arrays with labels");
    data = ft_arrays(m, 2, values, NULL, (ft_array_options){0});
    CHECK(ft_data_task(data) == FT_TASK_AUTO, "arrays without");
    data = ft_text_streams(m, NULL, (ft_stream_options){.memory = reviews, .bytes = sizeof reviews - 1,
                                                        .streams = 2, .steps = 3});
    CHECK(ft_data_task(data) == FT_TASK_LANGUAGE_MODEL, "streams");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Each task that the data, or the network, cannot serve is refused in one line. */
static void test_refused(void)
{
    static const struct { ft_task task; const char *says; } cases[] = {
        {FT_TASK_REGRESSION, "ft_finetune: the task is regression, but the data was read for"
                             " classification"},
        {FT_TASK_LANGUAGE_MODEL, "ft_finetune: the task is for language models: this network has"
                                 " one label per text"},
        {(ft_task)9, "ft_finetune: task is 9; it must be one of ft_task"}};
    size_t i;
    ft_model *m;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        ft_data *data;
        m = create();
        data = read_texts(m, reviews, (ft_text_options){0});
        ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 4, .embedding = 4});
        ft_finetune(m, data, (ft_finetune_options){.epochs = 1, .task = cases[i].task});
        CHECK(strstr(ft_error_text(m), cases[i].says), "%s: %s", cases[i].says, ft_error_text(m));
        ft_destroy(m);
    }
    m = create();
    CHECK(!read_texts(m, reviews, (ft_text_options){.task = (ft_task)-1})
          && strstr(ft_error_text(m), "ft_texts: task is -1"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!read_texts(m, reviews, (ft_text_options){.task = FT_TASK_LANGUAGE_MODEL,
                                                    .label_column = "label"})
          && strstr(ft_error_text(m), "label_column has no effect here"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Pairs ---- */

static const char goldens[] = "tests/golden/tasks";

static ft_tokenizer *tokenizer_named(ft_model *m, const char *name)
{
    char path[100];
    snprintf(path, sizeof path, "%s/%s.json", goldens, name);
    return ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
}

static int read_numbers(const char *text, int32_t *to, int most)
{
    char *end;
    int count = 0;
    for (; *text && count < most; text = end) to[count++] = (int32_t)strtol(text, &end, 10);
    return count;
}

/* Ids and types of Hugging Face's tokenizers, cut or not: by the file, and by the tokeniser that a
   saved model has. */
static void test_pair_ids(void)
{
    FILE *file = fopen("tests/golden/tasks/cases.tsv", "r");
    char line[2000], last[40] = "", path[] = "build/tasks_pairs.safetensors";
    ft_model *m = create(), *again = create();
    ft_tokenizer *t[2] = {NULL, NULL};
    int cases = 0, k;
    CHECK(file != NULL, "no cases.tsv");
    while (file && fgets(line, sizeof line, file)) {
        char *fields[6] = {line}, *at = line;
        int32_t ids[128], types[128];
        int count = 1;
        line[strcspn(line, "\n")] = 0;
        for (; *at && count < 6; ++at)
            if (*at == '\t') {
                *at = 0;
                fields[count++] = at + 1;
            }
        if (strcmp(last, fields[0]) != 0) { /* the next tokeniser: also that of a saved model */
            snprintf(last, sizeof last, "%s", fields[0]);
            t[0] = tokenizer_named(m, last);
            if (!ft_output(m).id) ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 1});
            ft_set_tokenizer(m, t[0]);
            ft_save(m, path, (ft_save_options){0});
            ft_destroy(again);
            again = create();
            ft_load(again, path, (ft_load_options){0});
            t[1] = ft_get_tokenizer(again);
        }
        count = read_numbers(fields[4], ids, 128);
        read_numbers(fields[5], types, 128);
        for (k = 0; k < 2; ++k) {
            ft_pair_tokens got = ft_tokenize_pair(t[k], fields[2], strlen(fields[2]), fields[3],
                                                  strlen(fields[3]),
                                                  (ft_tokenize_pair_options){atoi(fields[1])});
            CHECK(got.count == count && !memcmp(got.ids, ids, (size_t)count * sizeof *ids)
                  && !memcmp(got.types, types, (size_t)count * sizeof *types),
                  "%s, %s, \"%s\", \"%s\": %d tokens, want %d", last, fields[1], fields[2], fields[3],
                  got.count, count);
        }
        cases += 1;
    }
    CHECK(cases > 500, "%d cases", cases);
    CHECK(ft_error(m) == FT_OK && ft_error(again) == FT_OK, "%s%s", ft_error_text(m), ft_error_text(again));
    ft_tokenize_pair(t[0], "a", 1, NULL, 0, (ft_tokenize_pair_options){0});
    CHECK(strstr(ft_error_text(m), "the second text"), "%s", ft_error_text(m));
    if (file) fclose(file);
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

enum { SAMPLES = 3, STEPS = 9 };

static void feed(ft_model *m, ft_file *file, const char *network, const char *target)
{
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES];
    ft_set_length(m, STEPS);
    golden_numbers(file, network, "ids", ids, sizeof ids);
    ft_feed(m, ft_find(m, "tokens"), ids, SAMPLES);
    golden_numbers(file, network, "types", ids, sizeof ids);
    if (ft_find(m, "types").id) ft_feed(m, ft_find(m, "types"), ids, SAMPLES);
    golden_numbers(file, "", "lengths", lengths, sizeof lengths);
    ft_feed(m, ft_find(m, "lengths"), lengths, SAMPLES);
    golden_numbers(file, "", target, lengths, sizeof lengths);
    ft_feed(m, ft_find(m, !strcmp(target, "labels") ? "labels" : "target"), lengths, SAMPLES);
}

/* Outputs of transformers, ten steps, and the outputs after them. */
static void follow(ft_model *m, ft_file *file, const char *network, const char *target, size_t outputs)
{
    float got[SAMPLES * 3], want[SAMPLES * 3];
    outputs *= SAMPLES;
    feed(m, file, network, target);
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, outputs);
    golden_numbers(file, network, "outputs", want, sizeof want);
    compare_golden(network, got, want, outputs, 1e-4);
    GOLDEN_STEPS(m, file, network, feed(m, file, network, target));
    feed(m, file, network, target);
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, outputs);
    golden_numbers(file, network, "after", want, sizeof want);
    compare_golden(network, got, want, outputs, 1e-3);
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
}

/* A BERT that reads single texts gets types of tokens: with zeros the bits stay, with others the
   logits are transformers'; a saved one still has them. */
static void test_pair_network(void)
{
    ft_model *m = create(), *again = create();
    char path[] = "build/tasks_bert.safetensors";
    ft_file *file = ft_file_open(m, "tests/golden/tasks/expected.safetensors", (ft_weights_options){0});
    int32_t ids[SAMPLES * STEPS];
    float before[9], after[9];
    ft_load(m, "tests/golden/encoders/bert", (ft_load_options){0});
    golden_numbers(file, "bert", "ids", ids, sizeof ids);
    ft_set_length(m, STEPS);
    ft_run(m, ids, SAMPLES, before, 9);
    CHECK(!ft_pairs(m), "it reads pairs already");
    ft_set_pairs(m, true);
    CHECK(ft_pairs(m) && ft_find(m, "types").id, "no types: %s", ft_error_text(m));
    ft_run(m, ids, SAMPLES, after, 9);
    CHECK(!memcmp(before, after, sizeof before), "single texts have other bits");
    ft_set_pairs(m, false);
    ft_run(m, ids, SAMPLES, after, 9);
    CHECK(!ft_pairs(m) && !memcmp(before, after, sizeof before), "and back");
    ft_set_pairs(m, true);
    ft_save(m, path, (ft_save_options){0});
    follow(m, file, "bert", "labels", 3);
    ft_load(again, path, (ft_load_options){0});
    CHECK(ft_pairs(again), "the file does not say that it reads pairs: %s", ft_error_text(again));
    follow(again, file, "bert", "labels", 3);
    ft_file_close(file);
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

static const char pairs[] = "sentence_A,sentence_B,label\n\"the tea was hot\",a cold soup,no\n"
                            "fresh bread,\"hot tea, cold soup\",yes\nthe soup,the soup was hot,yes\n"
                            "a cake,the tea,no\n";

/* What ft_texts reads as a pair, and what it joins. */
static void test_pair_tables(void)
{
    static const struct { const char *table, *format, *columns, *says, *name; bool pair, pairs; } cases[] = {
        {pairs, "csv", NULL, "4 pairs of 2 classes (no, yes); pair from column 1 \"sentence_A\" and column 2"
         " \"sentence_B\", label from column 3", "the tea was hot\ta cold soup", false, true},
        {pairs, "csv", "sentence_B,sentence_A", "pair from column 2", "a cold soup\tthe tea was hot", false, true},
        {pairs, "csv", "sentence_A", "text from column 1", "the tea was hot", false, false},
        {"title\tbody\tlabel\na\tb\tx\nc\td\ty\n", "tsv", "title,body", "joined by a space", "a b", false, false},
        {"title\tbody\tlabel\na\tb\tx\nc\td\ty\n", "tsv", "title,body", "pair from", "a\tb", true, true},
        {"a\tb\tx\nc\td\ty\n", "tsv", "2,1", "pair from column 2 and column 1", "b\ta", true, true},
        {"PREMISE\thypothesis\tclass\na\tb\tx\nc\t\ty\n", "tsv", NULL, "line 1 is a header", "a\tb", false, true},
        {"{\"label\": 1, \"question2\": \"b\", \"question1\": \"a\"}\n"
         "{\"label\": 0, \"question2\": \"d\", \"question1\": \"c\"}\n", "jsonl", NULL,
         "pair from \"question1\" and \"question2\"", "a\tb", false, true}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        ft_model *m = create();
        ft_data *data = read_texts(m, cases[i].table, (ft_text_options){
            .format = cases[i].format, .text_column = cases[i].columns, .pair = cases[i].pair,
            .label_column = i == 5 ? "3" : NULL});
        CHECK(data && !strcmp(ft_data_name(data, 0), cases[i].name), "case %zu: %s, %s", i,
              ft_data_name(data, 0), ft_error_text(m));
        CHECK(ft_pairs(m) == cases[i].pairs && strstr(log_text, cases[i].says), "case %zu: %s", i, log_text);
        ft_destroy(m);
    }
}

static void test_pair_errors(void)
{
    ft_model *m = create();
    ft_prediction best[2];
    float number[2];
    ft_data *data;
    CHECK(!read_texts(m, pairs, (ft_text_options){.format = "csv", .pair = true, .text_column = "label"})
          && strstr(ft_error_text(m), "a pair needs two text columns, but text_column names 1"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(!read_texts(m, pairs, (ft_text_options){.format = "csv", .pair = true})
          && strstr(ft_error_text(m), "pair has no effect here"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!read_texts(m, pairs, (ft_text_options){.format = "csv", .shuffle = true})
          && strstr(ft_error_text(m), "not for pairs"), "%s", ft_error_text(m));
    ft_clear_error(m);
    data = read_texts(m, pairs, (ft_text_options){.format = "csv"});
    ft_network(m, "gru_classifier", (ft_network_options){.hidden = 4, .embedding = 4});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
    CHECK(!ft_predict_text(m, "tea", 3, best, 2) && strstr(ft_error_text(m), "use ft_predict_pair"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_predict_pair(m, "tea", 3, "soup", 4, best, 2) == 2, "%s", ft_error_text(m));
    CHECK(ft_run_text(m, "tea", 3, "soup", 4, number, 2) == FT_OK
          && (number[best[0].class_index] >= number[best[1].class_index]), "%s", ft_error_text(m));
    CHECK(ft_run_text(m, "tea", 3, "soup", 4, number, 1) == FT_SHAPE, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!read_texts(m, reviews, (ft_text_options){.match_classes = true})
          && strstr(ft_error_text(m), "the model reads pairs"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(read_texts(m, reviews, (ft_text_options){0}) && !ft_pairs(m), "single texts again");
    CHECK(!ft_predict_pair(m, "tea", 3, "soup", 4, best, 2) && strstr(ft_error_text(m), "reads single texts"),
          "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A real tokeniser and network: an epoch on pairs; a pair alone has the bits that it has in a batch,
   and the order of its texts matters. */
static void test_pair_training(void)
{
    ft_model *m = create();
    ft_prediction each[8], best[2], other[2];
    ft_data *data;
    int i;
    ft_set_tokenizer(m, tokenizer_named(m, "template"));
    ft_network(m, "bert", (ft_network_options){.hidden = 8, .layers = 1, .heads = 2, .positions = 20});
    data = read_texts(m, pairs, (ft_text_options){.format = "csv", .longest = 12});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 3, .learning_rate = 0.01f});
    CHECK(ft_predict_data(m, data, each, 2, (ft_predict_options){0}) == 4, "%s", ft_error_text(m));
    CHECK(ft_predict_pair(m, "fresh bread", 11, "hot tea, cold soup", 18, best, 2) == 2
          && !memcmp(best, each + 2, sizeof best), "alone %g, in a batch %g: %s",
          (double)best[0].probability, (double)each[2].probability, ft_error_text(m));
    ft_predict_pair(m, "hot tea, cold soup", 18, "fresh bread", 11, other, 2);
    CHECK(other[0].probability != best[0].probability, "the order does not matter");
    for (i = 0; i < 4; ++i) CHECK(each[2 * i].class_index >= 0, "sample %d", i);
    ft_destroy(m);
}

/* ---- Regression ---- */

/* Transformers' BERT with problem_type "regression": outputs, ten steps, a round trip. */
static void test_regression_network(void)
{
    ft_model *m = create(), *again = create();
    char path[] = "build/tasks_regression.safetensors";
    ft_file *file = ft_file_open(m, "tests/golden/tasks/expected.safetensors", (ft_weights_options){0});
    ft_prediction best[1];
    ft_load(m, "tests/golden/tasks/regression", (ft_load_options){0});
    ft_set_pairs(m, true);
    CHECK(ft_class_count(m) == 0 && ft_node_shape(m, ft_output(m)).size[1] == 1, "%d classes: %s",
          ft_class_count(m), ft_error_text(m));
    ft_save(m, path, (ft_save_options){0});
    follow(m, file, "regression", "targets", 1);
    ft_load(again, path, (ft_load_options){0});
    CHECK(ft_class_count(again) == 0, "%d classes", ft_class_count(again));
    follow(again, file, "regression", "targets", 1);
    ft_set_tokenizer(m, tokenizer_named(m, "template"));
    CHECK(!ft_predict_pair(m, "a", 1, "b", 1, best, 1)
          && strstr(ft_error_text(m), "gives a number, not classes: use ft_run_text"), "%s", ft_error_text(m));
    ft_file_close(file);
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

/* Pearson and Spearman of given outputs: scipy's. The network is y = 1 x + 0. */
static void test_correlations(void)
{
    ft_model *m = create();
    ft_file *file = ft_file_open(m, "tests/golden/tasks/expected.safetensors", (ft_weights_options){0});
    ft_node x = add_input(m, "input", FT_F32, 1, 0, 0), y, target = add_input(m, "target", FT_F32, 1, 0, 0);
    float outputs[64], targets[64], one = 1;
    double want[2], mse, r2, mean, spread;
    ft_metrics metrics;
    char key[40];
    int k;
    y = ft_linear(m, "fc", x, 1, (ft_linear_options){.no_bias = true});
    ft_set(m, ft_find(m, "fc.weight"), &one, 1);
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, target));
    for (k = 0; k < 4; ++k) {
        ft_evaluation e;
        ft_data *data;
        int count, i;
        snprintf(key, sizeof key, "scores/%d/outputs", k);
        count = (int)golden_numbers(file, "", key, outputs, sizeof outputs);
        snprintf(key, sizeof key, "scores/%d/targets", k);
        golden_numbers(file, "", key, targets, sizeof targets);
        snprintf(key, sizeof key, "scores/%d/expected", k);
        golden_numbers(file, "", key, want, sizeof want);
        data = ft_arrays(m, count, outputs, NULL, (ft_array_options){.targets = targets, .target_size = 1});
        e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 7, .metrics = &metrics});
        CHECK(CLOSE(metrics.of[FT_METRIC_PEARSON].value, want[0], 1e-9)
              && CLOSE(metrics.of[FT_METRIC_SPEARMAN].value, want[1], 1e-9)
              && CLOSE(metrics.of[FT_METRIC_RMSE].value, sqrt(e.mse), 1e-9), "case %d: the metrics", k);
        CHECK(e.regression && CLOSE(e.pearson, want[0], 1e-9) && CLOSE(e.spearman, want[1], 1e-6),
              "case %d: Pearson %.12g, Spearman %.12g; scipy %.12g, %.12g: %s", k, e.pearson, e.spearman,
              want[0], want[1], ft_error_text(m));
        for (mse = mean = spread = 0, i = 0; i < count; ++i) mean += (double)targets[i] / count;
        for (i = 0; i < count; ++i) {
            mse += ((double)outputs[i] - (double)targets[i]) * ((double)outputs[i] - (double)targets[i]) / count;
            spread += ((double)targets[i] - mean) * ((double)targets[i] - mean) / count;
        }
        r2 = 1 - mse / spread;
        CHECK(CLOSE(e.mse, mse, 1e-6 * mse) && CLOSE(e.r2, r2, 1e-6 * fabs(r2)), "mse %g, r2 %g", e.mse, e.r2);
        if (k == 0) { /* all targets are equal */
            for (i = 0; i < count; ++i) targets[i] = 2;
            e = ft_evaluate(m, data, (ft_evaluate_options){0});
            CHECK(e.pearson == 0 && e.spearman == 0, "constant: %g, %g", e.pearson, e.spearman);
        }
    }
    ft_file_close(file);
    ft_destroy(m);
}

/* A table of texts "w", "w w" ..., whose numbers are `shift` + `unit` times their lengths / 8. */
static const char *lengths_table(double shift, double unit, const char *after)
{
    static char table[8000];
    size_t at = (size_t)snprintf(table, sizeof table, "text\tscore\n");
    int i, k;
    for (i = 0; i < 64; ++i) {
        for (k = 0; k <= i % 8; ++k) at += (size_t)snprintf(table + at, sizeof table - at, "word ");
        at += (size_t)snprintf(table + at, sizeof table - at, "\t%g%s\n", shift + unit * (k + 0.0) / 8, after);
    }
    return table;
}

/* Which labels are numbers to be learnt, and which are classes. */
static void test_numbers_recognised(void)
{
    static const struct { double shift, unit; const char *after; ft_task wanted, is; } cases[] = {
        {0, 1, "", FT_TASK_AUTO, FT_TASK_REGRESSION},       /* 0.125, ... 1 */
        {0, 8, "", FT_TASK_AUTO, FT_TASK_CLASSIFICATION},   /* 1 ... 8 */
        {-4, 8, ".0", FT_TASK_AUTO, FT_TASK_CLASSIFICATION},
        {0, 8, "", FT_TASK_REGRESSION, FT_TASK_REGRESSION},
        {0, 1, "", FT_TASK_CLASSIFICATION, FT_TASK_CLASSIFICATION},
        {0, 1, " kg", FT_TASK_AUTO, FT_TASK_CLASSIFICATION}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        ft_model *m = create();
        ft_data *data = read_texts(m, lengths_table(cases[i].shift, cases[i].unit, cases[i].after),
                                   (ft_text_options){.task = cases[i].wanted});
        CHECK(data && ft_data_task(data) == cases[i].is
              && ft_data_classes(data) == (cases[i].is == FT_TASK_REGRESSION ? 0 : 8),
              "case %zu: %s, %d classes: %s", i, ft_task_name(ft_data_task(data)), ft_data_classes(data),
              ft_error_text(m));
        if (i == 0)
            CHECK(strstr(log_text, "regression: 64 texts with numbers from 0.125 to 1; text from column 1")
                  && !strstr(log_text, "warning"), "%s", log_text);
        ft_destroy(m);
    }
}

static void test_regression_errors(void)
{
    ft_model *m = create();
    CHECK(!read_texts(m, reviews, (ft_text_options){.task = FT_TASK_REGRESSION})
          && strstr(ft_error_text(m), "the label \"good\" is not a number"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!read_texts(m, lengths_table(0, 1, ""), (ft_text_options){.per_class = 2})
          && strstr(ft_error_text(m), "per_class has no effect here"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_network(m, "bert", (ft_network_options){.hidden = 8, .heads = 2, .layers = 1, .classes = 2,
                                               .task = FT_TASK_REGRESSION});
    CHECK(strstr(ft_error_text(m), "a regression of 2 numbers is not supported"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Numbers of two units are learnt to the same degree, by a recurrent network and by a BERT; the
   output is in the data's unit; then the model learns classes. */
static void test_regression_training(bool bert)
{
    static const double units[2][2] = {{0, 1}, {5e5, 4e6}};
    double pearson[2];
    int k;
    for (k = 0; k < 2; ++k) {
        char path[] = "build/tasks_numbers.safetensors";
        ft_model *m = create(), *again = create();
        const char *table = lengths_table(units[k][0], units[k][1], "");
        ft_data *data = read_texts(m, table, (ft_text_options){.task = k ? FT_TASK_REGRESSION : FT_TASK_AUTO}), *other;
        ft_finetune_result r;
        ft_evaluation e;
        float number = 0, same = 0;
        if (bert) ft_network(m, "bert", (ft_network_options){.hidden = 16, .layers = 1, .heads = 2, .positions = 20});
        else ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 16, .embedding = 8});
        r = ft_finetune(m, data, (ft_finetune_options){.epochs = bert ? 60 : 30, .learning_rate = 0.01f});
        e = ft_evaluate(m, data, (ft_evaluate_options){0});
        pearson[k] = e.pearson;
        CHECK(e.regression && e.pearson > 0.95 && e.r2 > 0.9 && e.accuracy == -1, "Pearson %g, r2 %g: %s",
              e.pearson, e.r2, ft_error_text(m));
        CHECK(CLOSE(e.loss, e.mse, 1e-3 * e.mse) && r.fit.accuracy == -1, "loss %g, mse %g", e.loss, e.mse);
        ft_run_text(m, "word word word word", 19, NULL, 0, &number, 1);
        CHECK(CLOSE(number, units[k][0] + units[k][1] / 2, units[k][1] / 8), "4 words give %g: %s",
              (double)number, ft_error_text(m));
        ft_save(m, path, (ft_save_options){0});
        ft_load(again, path, (ft_load_options){0});
        ft_run_text(again, "word word word word", 19, NULL, 0, &same, 1);
        CHECK(same == number && ft_class_count(again) == 0, "loaded: %g, not %g", (double)same, (double)number);
        /* Whole numbers are numbers to a model that learnt numbers. */
        other = read_texts(again, lengths_table(0, 8, ""), (ft_text_options){.match_classes = true});
        CHECK(ft_data_task(other) == FT_TASK_REGRESSION, "%s", ft_error_text(again));
        other = read_texts(m, lengths_table(0, 8, ""), (ft_text_options){.classes_of = data});
        CHECK(ft_data_task(other) == FT_TASK_REGRESSION, "%s", ft_error_text(m));
        ft_destroy(again);
        again = create();
        ft_load(again, path, (ft_load_options){.network = {.classes = 3}});
        CHECK(ft_class_count(again) == 3 && strstr(log_text, "which gives a number, is replaced"), "%d classes: %s",
              ft_class_count(again), ft_error_text(again));
        ft_destroy(again);
        again = create();
        ft_load(again, path, (ft_load_options){.network = {.classes = 1}});
        CHECK(ft_class_count(again) == 0 && !strstr(log_text, "replaced"), "%s", log_text);
        other = read_texts(again, reviews, (ft_text_options){0});
        ft_finetune(again, other, (ft_finetune_options){.epochs = 1});
        CHECK(ft_class_count(again) == 2 && !strcmp(ft_class_name(again, 0), "bad"), "%d classes: %s",
              ft_class_count(again), ft_error_text(again));
        ft_destroy(again);
        ft_destroy(m);
        remove(path);
    }
    CHECK(CLOSE(pearson[0], pearson[1], 1e-3), "the unit matters: %g, %g", pearson[0], pearson[1]);
}

/* ---- The head only ---- */

enum { MOST_NODES = 400 };

/* Of each weight, by its id. */
static void hash_weights(ft_model *m, uint64_t *hashes)
{
    int i;
    for (i = 1; i <= ft_node_count(m) && i < MOST_NODES; ++i) {
        ft_node node = {i};
        hashes[i] = is_weight(m, node) ? hash_weight(1, m, node) : 0;
    }
}

/* The head learns, by the epochs and the rate that are said; no other weight changes. */
static void test_head_only(bool bert, bool number)
{
    static uint64_t was[MOST_NODES], is[MOST_NODES];
    double pearson[2] = {0, 0};
    int k, i, moved;
    for (k = 0; k < 1 + number; ++k) { /* numbers in two units */
        ft_model *m = create();
        ft_data *data = read_texts(m, number ? lengths_table(0, k ? 1e-5 : 1, "") : reviews,
                                   (ft_text_options){.task = number ? FT_TASK_REGRESSION : FT_TASK_AUTO});
        ft_finetune_result r;
        if (bert) ft_network(m, "bert", (ft_network_options){.hidden = 16, .layers = 1, .heads = 2, .positions = 20,
                                                             .classes = 2});
        else ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 16, .embedding = 8, .classes = 2});
        hash_weights(m, was);
        r = ft_finetune(m, data, (ft_finetune_options){.head_only = true, .epochs = 30,
                                                       .learning_rate = 0.02f});
        CHECK(ft_error(m) == FT_OK && !strcmp(r.choice, "as requested: the head only; 30 epochs, learning rate 0.02"),
              "%s: %s", r.choice, ft_error_text(m));
        hash_weights(m, is);
        for (i = 1, moved = 0; i <= ft_node_count(m); ++i) {
            ft_node node = {i};
            bool head;
            if (!is_parameter(m, node)) continue;
            head = !strncmp(ft_node_name(m, node), bert ? "classifier." : "fc.", bert ? 11 : 3);
            CHECK((was[i] != is[i]) == head, "bert %d, number %d: %s", bert, number, ft_node_name(m, node));
            moved += was[i] != is[i];
        }
        CHECK(moved == 2, "bert %d, number %d: %d moved", bert, number, moved);
        if (number) pearson[k] = ft_evaluate(m, data, (ft_evaluate_options){0}).pearson;
        else CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).correct == 4, "bert %d: nothing learnt", bert);
        ft_destroy(m);
    }
    if (number) CHECK(pearson[0] > 0.5 && CLOSE(pearson[0], pearson[1], 1e-3), "bert %d: %g and %g", bert, pearson[0],
                      pearson[1]);
}

static void test_head_only_refused(void)
{
    static const struct { ft_finetune_options o; const char *text; } rows[] = {
        {{.head_only = true, .freeze = "x"}, "head_only has no effect here: it is for training without freeze"},
        {{.head_only = true, .task = FT_TASK_LANGUAGE_MODEL}, "head_only has no effect here: it is for a class"},
        {{.head_only = true}, "of a network without adapters"}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        ft_model *m = create();
        ft_data *data = read_texts(m, reviews, (ft_text_options){.task = rows[i].o.task});
        ft_network(m, "bert", (ft_network_options){.hidden = 16, .layers = 1, .heads = 2, .classes = 2});
        if (i == 2) ft_lora(m, NULL, (ft_lora_options){0});
        ft_finetune(m, data, rows[i].o);
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), rows[i].text), "%s", ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- The default recipe's rate ---- */

static bool note_rate(void *user, const ft_progress *p)
{
    if (!p->preparing) *(float *)user = p->learning_rate;
    return p->preparing;
}

/* Few texts have 5e-5; thousands 5e-5 at BERT's width, 768, and up to 2e-4 below it. Rates rise over the
   first tenth of the steps: the first has a part of it. */
static void test_rate(void)
{
    static const struct { int texts, hidden, warm; float rate; } cases[] = {
        {900, 16, 6, 5e-5f}, {1000, 16, 3, 2e-4f}, {1000, 512, 3, 1.125e-4f}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        static char table[16000];
        size_t used = 0;
        ft_model *m = create();
        float first = 0;
        int k;
        for (k = 0; k < cases[i].texts; ++k)
            used += (size_t)snprintf(table + used, sizeof table - used, "tea\t%s\n", k % 2 ? "bad" : "good");
        ft_network(m, "bert", (ft_network_options){.hidden = cases[i].hidden, .layers = 1, .heads = 2,
                                                   .positions = 8});
        ft_finetune(m, read_texts(m, table, (ft_text_options){.header = FT_HEADER_NO}), (ft_finetune_options){
            .freeze = "", .epochs = 1, .progress = note_rate, .progress_user = &first});
        CHECK(CLOSE(first * (float)cases[i].warm, cases[i].rate, 1e-6 * cases[i].rate),
              "%d texts, width %d: %g, %d times, not %g: %s", cases[i].texts, cases[i].hidden, (double)first,
              cases[i].warm, (double)cases[i].rate, ft_error_text(m));
        ft_destroy(m);
    }
}

static void keep_rows(void *user, const ft_sweep_row *row) { ((ft_sweep_row *)user)[row->place - 1] = *row; }

/* A sweep over rates of a regression: the value is the mean squared error of what was held back. */
static void test_regression_sweep(void)
{
    static const float rates[] = {1e-7f, 0.01f};
    ft_model *m = create();
    ft_data *data = read_texts(m, lengths_table(0, 1, ""), (ft_text_options){.task = FT_TASK_AUTO});
    ft_sweep_row rows[2];
    ft_sweep_result r;
    double error = 0;
    int held[64], count, i;
    memset(rows, 0, sizeof rows);
    ft_network(m, "bert", (ft_network_options){.hidden = 16, .layers = 1, .heads = 2, .positions = 20});
    r = ft_sweep(m, data, "build/tasks_sweep.json", (ft_sweep_options){.learning_rates = rates, .learning_rate_count = 2,
        .finetune = {.epochs = 20}, .row = keep_rows, .row_user = rows});
    count = ft_data_held_back(data, 0.2f, held, 64);
    for (i = 0; i < count; ++i) {
        const char *text = ft_data_name(data, held[i]);
        float number = 0;
        ft_run_text(m, text, strlen(text), NULL, 0, &number, 1);
        error += pow((double)number - (1 + held[i] % 8) / 8.0, 2) / count;
    }
    CHECK(ft_error(m) == FT_OK && r.regression && r.samples == count && count >= 10, "%d samples: %s", r.samples,
          ft_error_text(m));
    CHECK(r.winner.learning_rate == 0.01f && CLOSE(r.winner.value, error, 1e-4 * error), "rate %g: %.9g, not %.9g",
          (double)r.winner.learning_rate, r.winner.value, error);
    CHECK(rows[0].low < rows[0].value && rows[0].value < rows[0].high, "%g to %g", rows[0].low, rows[0].high);
    CHECK(rows[1].value > 2 * error && rows[1].differs && rows[1].p < 0.05 && rows[1].best == rows[0].value,
          "the other rate: %g, p %g", rows[1].value, rows[1].p);
    ft_destroy(m);
    remove("build/tasks_sweep.json");
}

int main(void)
{
    test_head_only(false, false);
    test_head_only(false, true);
    test_head_only(true, false);
    test_head_only(true, true);
    test_head_only_refused();
    test_rate();
    test_regression_network();
    test_correlations();
    test_numbers_recognised();
    test_regression_errors();
    test_regression_training(false);
    test_regression_training(true);
    test_regression_sweep();
    test_pair_ids();
    test_pair_network();
    test_pair_tables();
    test_pair_errors();
    test_pair_training();
    test_names();
    test_recognised();
    test_refused();
    return check_done("test_tasks");
}
