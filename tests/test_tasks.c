/* test_tasks.c - what is learnt from texts: how it is recognised, said, and refused. */
#include "finetune.h"
#include "check.h"
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
        {FT_TASK_REGRESSION, "ft_finetune: the task regression is not implemented yet"},
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

int main(void)
{
    test_names();
    test_recognised();
    test_refused();
    return check_done("test_tasks");
}
