/* test_text.c - texts as data: tables, class folders, streams; batches of similar length. */
#include "check.h"
#include <sys/stat.h>

#include "internals.h"

static ft_model *new_model(uint64_t seed)
{
    ft_desc desc = {.threads = 2, .seed = seed};
    return ft_create(desc);
}

static ft_data *table(ft_model *m, const char *text, const char *format, ft_text_options o)
{
    o.memory = text;
    o.bytes = strlen(text);
    o.format = format;
    return ft_texts(m, NULL, o);
}

static void is_sample(const ft_data *data, int index, const char *text, const char *label)
{
    const char *class_name = ft_data_class_name(data, ft_data_label(data, index));
    CHECK(!strcmp(ft_data_name(data, index), text), "sample %d is '%s', not '%s'", index,
          ft_data_name(data, index), text);
    CHECK(class_name && !strcmp(class_name, label), "sample %d: label '%s', not '%s'", index,
          class_name ? class_name : "(none)", label);
}

/* ---- Tables ---- */

static void test_tables(void)
{
    static const struct { const char *text, *format, *text_column, *label_column; } same[] = {
        {"a good film\tpos\n\"bad\", it is\tneg\n\tpos", "tsv", NULL, NULL},
        {"a good film\tpos\r\n\"bad\", it is\tneg\r\n\n\tpos\r\n", "tsv", NULL, NULL},
        {"label\tid\tsentence\npos\t1\ta good film\nneg\t2\t\"bad\", it is\npos\t3\t", "tsv", NULL, NULL},
        {"sentence,label\na good film,pos\n\"\"\"bad\"\", it is\",neg\n\"\",pos\n", "csv", NULL, NULL},
        {"x,pos,a good film\nx,neg,\"\"\"bad\"\", it is\"\ny,pos,", "csv", "3", "2"},
        {"what\twho\na good film\tpos\n\"bad\", it is\tneg\n\tpos\n", "tsv", "what", "who"},
        {"{\"text\": \"a good film\", \"label\": \"pos\"}\n\n{\"label\":\"neg\",\"text\":\"\\\"bad\\\","
         " it is\"}\n{\"text\":\"\",\"label\":\"pos\"}", "jsonl", NULL, NULL}};
    size_t i;
    for (i = 0; i < sizeof same / sizeof same[0]; ++i) {
        ft_model *m = new_model(0);
        ft_data *data = table(m, same[i].text, same[i].format, (ft_text_options){
            .text_column = same[i].text_column, .label_column = same[i].label_column});
        CHECK(data != NULL, "table %zu: %s", i, ft_error_text(m));
        CHECK(ft_data_count(data) == 3 && ft_data_classes(data) == 2, "table %zu: %d texts", i,
              ft_data_count(data));
        is_sample(data, 0, "a good film", "pos");
        is_sample(data, 1, "\"bad\", it is", "neg");
        is_sample(data, 2, "", "pos");
        CHECK(ft_data_label(data, 0) == 1, "classes are in the order of their names");
        ft_destroy(m);
    }
}

static void test_csv_lines(void)
{
    ft_model *m = new_model(0);
    ft_data *data = table(m, "text,label\n\"two\nlines, \"\"here\"\"\",1\r\nplain,0\r\n", "csv",
                          (ft_text_options){0});
    is_sample(data, 0, "two\nlines, \"here\"", "1");
    is_sample(data, 1, "plain", "0");
    ft_destroy(m);
}

static void test_errors(void)
{
    static const struct { const char *text, *format, *column, *says; } wrong[] = {
        {"", "tsv", NULL, "no texts"}, {"\n\n", "tsv", NULL, "no texts"},
        {"a\t0\nb\n", "tsv", NULL, "line 2"}, {"a\t0\n", "tsv", "body", "body"},
        {"a\t0\n", "tsv", "7", "column 7"}, {"{\"text\":1}", "jsonl", NULL, "line 1"},
        {"{\"text\":\"a\"}", "jsonl", NULL, "label"}, {"{\"text\"", "jsonl", NULL, "line 1"}};
    size_t i;
    ft_model *m = new_model(0);
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        CHECK(!table(m, wrong[i].text, wrong[i].format, (ft_text_options){
              .text_column = wrong[i].column}), "%s is refused", wrong[i].text);
        CHECK(ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), wrong[i].says), "%s: %s",
              wrong[i].text, ft_error_text(m));
        ft_clear_error(m);
    }
    ft_texts(m, "/nonexistent/file.tsv", (ft_text_options){0});
    CHECK(ft_error(m) == FT_IO, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!table(m, "a\ty\n", "tsv", (ft_text_options){.unlabelled = true, .label_column = "2"})
          && strstr(ft_error_text(m), "label_column has no effect here: it is for labelled texts"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(!ft_texts(m, "tests", (ft_text_options){.text_column = "1"})
          && strstr(ft_error_text(m), "text_column has no effect here: it is for a table"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    ft_set_class_names(m, 2, (const char *const[]){"x", "y"});
    CHECK(!table(m, "a\ty\nb\tz\n", "tsv", (ft_text_options){.match_classes = true})
          && strstr(ft_error_text(m), "'z'"), "a label that is none of the model's: %s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_data_label(table(m, "a\ty\n", "tsv", (ft_text_options){
          .classes_of = table(m, "a\tz\nb\ty\nc\tx\n", "tsv", (ft_text_options){0})}), 0) == 1,
          "the classes of other data: %s", ft_error_text(m));
    CHECK(!table(m, "a\tw\n", "tsv", (ft_text_options){
          .classes_of = table(m, "a\tz\nb\ty\n", "tsv", (ft_text_options){0})})
          && strstr(ft_error_text(m), "'w' is not one of the 2 classes of the training data"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_data_label(table(m, "a\ty\n", "tsv", (ft_text_options){.match_classes = true}), 0) == 1,
          "the model's classes: %s", ft_error_text(m));
    ft_destroy(m);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL, "%s", path);
    if (!file) return;
    fputs(text, file);
    fclose(file);
}

static void test_folder(void)
{
    ft_model *m = new_model(0);
    ft_data *data;
    FILE *file;
    mkdir("build/texts", 0777);
    mkdir("build/texts/sea", 0777);
    mkdir("build/texts/land", 0777);
    write_file("build/texts/sea/2.txt", "ships\nand boats\n");
    write_file("build/texts/sea/1.txt", "waves");
    write_file("build/texts/land/1.txt", "");
    data = ft_texts(m, "build/texts", (ft_text_options){0});
    CHECK(ft_data_count(data) == 3, "%s", ft_error_text(m));
    is_sample(data, 0, "", "land");
    is_sample(data, 1, "waves", "sea");
    is_sample(data, 2, "ships\nand boats\n", "sea");
    write_file("build/texts/sea/.hidden", "no text of the class");
    CHECK(ft_data_count(ft_texts(m, "build/texts", (ft_text_options){0})) == 3, "a hidden file");
    remove("build/texts/sea/.hidden");
    file = fopen("build/texts/sea/picture.jpg", "wb");
    CHECK(file && fwrite("a picture, and zeros", 1, 21, file) == 21, "a file with a zero");
    if (file) fclose(file);
    CHECK(!ft_texts(m, "build/texts", (ft_text_options){0}) && ft_error(m) == FT_FORMAT
          && strstr(ft_error_text(m), "picture.jpg: not a text: its byte 20 is zero"), "%s",
          ft_error_text(m));
    remove("build/texts/sea/picture.jpg");
    ft_destroy(m);
}

static void test_per_class(void)
{
    ft_model *m = new_model(5);
    const char *text = "a\t0\nb\t1\nc\t0\nd\t1\ne\t0\nf\t0\n";
    ft_data *data = table(m, text, "tsv", (ft_text_options){.per_class = 2});
    int i, of[2] = {0, 0};
    for (i = 0; i < ft_data_count(data); ++i) of[ft_data_label(data, i)] += 1;
    CHECK(of[0] == 2 && of[1] == 2, "%d and %d", of[0], of[1]);
    ft_destroy(m);
}

/* ---- What the inputs get ---- */

/* 100 texts of 1 to 23 words, of the vocabulary "w1" to "w9". */
static ft_data *some_texts(ft_model *m, ft_text_options o)
{
    static char text[100 * 23 * 4];
    size_t at = 0;
    int i, k;
    for (i = 0; i < 100; ++i) {
        for (k = 0; k <= i * 7 % 23; ++k)
            at += (size_t)snprintf(text + at, sizeof text - at, "%sw%d", k ? " " : "", 1 + (i + k) % 9);
        at += (size_t)snprintf(text + at, sizeof text - at, "\t%d\n", i % 3);
    }
    return table(m, text, "tsv", o);
}

static void slot(ft_slot *to, const char *name, int length, void *values)
{
    memset(to, 0, sizeof *to);
    to->name = name;
    to->type = FT_I32;
    to->shape.rank = length > 0;
    to->shape.size[0] = length;
    to->values = values;
}

static void test_get(void)
{
    ft_model *m = new_model(0);
    ft_data *data = some_texts(m, (ft_text_options){0});
    int32_t tokens[32], lengths, label;
    ft_slot slots[3];
    const ft_source *source = &data->source;
    int i, k;
    slot(&slots[0], "tokens", 32, tokens);
    slot(&slots[1], "lengths", 0, &lengths);
    slot(&slots[2], "labels", 0, &label);
    for (i = 0; i < 100; ++i) {
        memset(tokens, 0, sizeof tokens);
        CHECK(source->get(source->user, i, 0, slots, 3), "sample %d", i);
        CHECK(lengths == i * 7 % 23 + 1 && slots[0].length == lengths && label == i % 3
              && source->length(source->user, i) == lengths, "sample %d: %d tokens", i, lengths);
        for (k = 0; k < 32; ++k) {
            char want[8];
            snprintf(want, sizeof want, "w%d", 1 + (i + k) % 9);
            CHECK(tokens[k] == (k < lengths ? ft_tokenizer_find(ft_get_tokenizer(m), want) : 0),
                  "sample %d, token %d is %d", i, k, tokens[k]);
        }
    }
    slots[0].shape.size[0] = 3;
    CHECK(!source->get(source->user, 22, 0, slots, 3), "a text that does not fit is refused");
    ft_destroy(m);
}

/* ---- Views: words in another order, frequent ones left out ---- */

enum { ROOM = 32 };

/* A view's tokens and their labels; returns how many there are. */
static int view_of(const ft_data *data, int index, int view, int32_t *tokens, int32_t *labels)
{
    ft_slot slots[3];
    int32_t lengths = -1;
    slot(&slots[0], "tokens", ROOM, tokens);
    slot(&slots[1], "lengths", 0, &lengths);
    slot(&slots[2], "labels", ROOM, labels);
    memset(tokens, 0, ROOM * sizeof *tokens);
    CHECK(data->source.get(data->source.user, index, view, slots, 3), "sample %d", index);
    CHECK(slots[0].length == lengths && slots[2].length == lengths, "%d tokens", lengths);
    return lengths;
}

/* The labels of a language model over each text: the next word, the end, then nothing. */
static void test_next_words(bool shuffle)
{
    ft_model *m = new_model(0);
    ft_data *data = some_texts(m, (ft_text_options){.shuffle = shuffle, .subsample = 0.05f});
    int end = shuffle ? -1 : ft_get_tokenizer(m)->end, i, k, view;
    int32_t tokens[ROOM], labels[ROOM];
    for (i = 0; i < 100; ++i)
        for (view = 0; view < 3; ++view) {
            int count = view_of(data, i, view, tokens, labels);
            for (k = 0; k < ROOM; ++k)
                CHECK(labels[k] == (k + 1 < count ? tokens[k + 1] : k + 1 == count ? end : -1),
                      "sample %d, view %d, label %d is %d", i, view, k, labels[k]);
        }
    CHECK(end >= 0 || shuffle, "words have a piece for the end");
    ft_destroy(m);
}

/* Every order of three words is drawn about as often; the text itself is view 0. */
static void test_shuffled_words(void)
{
    ft_model *m = new_model(3), *other = new_model(4);
    ft_text_options o = {.shuffle = true};
    ft_data *data = table(m, "a b c\t0\nc b a\t1\n", "tsv", o);
    ft_data *differs = table(other, "a b c\t0\nc b a\t1\n", "tsv", o);
    int seen[27] = {0}, view, i, orders = 0, apart = 0, apart_text = 0;
    int32_t tokens[ROOM], labels[ROOM], again[ROOM], plain[ROOM];
    view_of(data, 0, 0, plain, labels);
    CHECK(plain[0] == ft_tokenizer_find(ft_get_tokenizer(m), "a")
          && plain[2] == ft_tokenizer_find(ft_get_tokenizer(m), "c"), "view 0 is the text");
    for (view = 1; view <= 1200; ++view) {
        int code = 0;
        CHECK(view_of(data, 0, view, tokens, labels) == 3, "all words stay");
        for (i = 0; i < 3; ++i)
            code = 3 * code + (tokens[i] == plain[0] ? 0 : tokens[i] == plain[1] ? 1 : 2);
        seen[code] += 1;
        view_of(data, 0, view, again, labels);
        CHECK(!memcmp(tokens, again, sizeof again), "view %d is not the same again", view);
        view_of(differs, 0, view, again, labels);
        apart += memcmp(tokens, again, sizeof again) != 0;
        view_of(data, 1, view, again, labels);
        for (i = 0; i < 3; ++i) { /* "c b a": the same draw would give the mirror image */
            int mirror = tokens[i] == plain[1] ? plain[1] : plain[0] + plain[2] - tokens[i];
            if (again[i] != mirror) break;
        }
        apart_text += i < 3;
    }
    for (i = 0; i < 27; ++i) {
        orders += seen[i] > 0;
        CHECK(seen[i] == 0 || (seen[i] > 150 && seen[i] < 250), "order %d: %d", i, seen[i]);
    }
    CHECK(orders == 6, "%d orders", orders);
    CHECK(apart > 800 && apart_text > 800, "another seed or text draws others: %d, %d", apart,
          apart_text);
    ft_destroy(other);
    ft_destroy(m);
}

/* "the" is 0.8 of these words, so that sqrt(0.2 / 0.8) of it stays; no text loses its last word. */
static void test_subsampled_words(void)
{
    enum { VIEWS = 2000 };
    ft_model *m = new_model(0);
    ft_data *data = table(m, "the the the the a the the the the b\t0\nthe the\t1\n"
                          "the the the the c the the d\t1\n", "tsv",
                          (ft_text_options){.subsample = 0.2f});
    int the = ft_tokenizer_find(ft_get_tokenizer(m), "the"), view, i, kept[3] = {0}, others = 0;
    int32_t tokens[ROOM], labels[ROOM];
    CHECK(view_of(data, 0, 0, tokens, labels) == 10, "view 0 is whole");
    for (view = 1; view <= VIEWS; ++view) {
        int count = view_of(data, 0, view, tokens, labels), before = 0;
        for (i = 0; i < count; ++i) {
            kept[0] += tokens[i] == the;
            others += tokens[i] != the;
            before += tokens[i] != the;
            CHECK(tokens[i] == the || before == 2 || i + 1 < count, "rare words keep their order");
        }
        count = view_of(data, 1, view, tokens, labels);
        CHECK(count == 1 || count == 2, "%d words", count);
        kept[1] += count;
    }
    CHECK(others == 2 * VIEWS, "words below the share stay: %d", others);
    CHECK(CLOSE(kept[0] / (8.0 * VIEWS), 0.5, 0.015), "%g of \"the\"", kept[0] / (8.0 * VIEWS));
    /* 0, which becomes 1, or 1 with 1/4 + 1/2, or 2 with 1/4 */
    CHECK(CLOSE(kept[1] / (double)VIEWS, 1.25, 0.04), "%g", kept[1] / (double)VIEWS);
    ft_destroy(m);
}

static void test_wrong_views(void)
{
    static const float wrong[] = {-1.0f, 1.5f, NAN};
    static const char pieces[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n";
    ft_model *m = new_model(0);
    ft_tokenizer *t;
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        CHECK(!table(m, "a\t0\n", "tsv", (ft_text_options){.subsample = wrong[i]})
              && ft_error(m) == FT_INVALID, "%g: %s", (double)wrong[i], ft_error_text(m));
        ft_clear_error(m);
    }
    t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = pieces,
                                                          .bytes = sizeof pieces - 1});
    CHECK(!table(m, "a\t0\n", "tsv", (ft_text_options){.tokenizer = t, .shuffle = true})
          && ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "FT_WORDS"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

static void test_cut_and_empty(void)
{
    ft_model *m = new_model(0);
    char *long_text = (char *)malloc(1 << 20);
    ft_data *data;
    memset(long_text, 'x', (1 << 20) - 1);
    memcpy(long_text + (1 << 20) - 4, "\t1\n", 4);
    data = table(m, long_text, "tsv", (ft_text_options){0});
    CHECK(data && data->source.length(data->source.user, 0) == 1, "a word of a megabyte: %s",
          ft_error_text(m));
    data = table(m, "a b c d e\t1\n\t0\n \t0\n", "tsv", (ft_text_options){.longest = 3});
    CHECK(data->source.length(data->source.user, 0) == 3, "texts are cut");
    CHECK(data->source.length(data->source.user, 1) == 1
          && data->source.length(data->source.user, 2) == 1, "an empty text is one unknown piece");
    free(long_text);
    ft_destroy(m);
}

/* Each sample once, batches of like length, another order with another key. */
static void test_bucket(void)
{
    ft_model *m = new_model(0);
    ft_data *data = some_texts(m, (ft_text_options){0});
    int order[100], again[100], work[200], seen[100] = {0}, i, k, padded = 0, apart = 0;
    ft__shuffle(order, 100, 1);
    memcpy(again, order, sizeof again);
    ft__bucket(&data->source, order, 100, 8, 3, work);
    for (i = 0; i < 100; ++i) seen[order[i]] += 1;
    for (i = 0; i < 100; ++i) CHECK(seen[i] == 1, "sample %d comes %d times", i, seen[i]);
    for (i = 0; i < 100; i += 8) {
        int most = 0, least = 99;
        for (k = i; k < i + 8 && k < 100; ++k) {
            int length = data->source.length(data->source.user, order[k]);
            if (length > most) most = length;
            if (length < least) least = length;
        }
        padded += most - least;
    }
    CHECK(padded <= 13 * 2, "lengths in a batch differ by %d in all", padded);
    ft__bucket(&data->source, again, 100, 8, 4, work);
    for (i = 0; i < 100; ++i) apart += order[i] != again[i];
    CHECK(apart > 30, "another key, another order: %d differ", apart);
    ft_destroy(m);
}

/* Each pair once; no text twice in a batch of 6; what is left out shares a text with the last batch, which is not full;
   the order is kept where nothing conflicts. Each text is in some 80 / `texts` pairs, of a text with itself too. */
static void test_distinct_order(void)
{
    enum { PAIRS = 80, BATCH = 6, SLOTS = 32 };
    static const int texts[] = {PAIRS * 4, 60, 30, 9, 2};
    uint64_t keys[2 * PAIRS], room[SLOTS];
    int order[PAIRS], work[2 * PAIRS], i, j, k, placed;
    for (k = 0; k < 5; ++k) {
        int seen[PAIRS] = {0}, twice = 0, free_ones = 0, moved = 0;
        uint64_t state = (uint64_t)k + 1;
        for (i = 0; i < 2 * PAIRS; ++i) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            keys[i] = k == 0 ? 1 + 65536 * (uint64_t)i : 1 + 65536 * ((state >> 33) % (uint64_t)texts[k]);
        }
        for (i = 0; i < PAIRS; ++i) order[i] = i * 7 % PAIRS;
        placed = ft__distinct_order(keys, room, SLOTS, order, PAIRS, BATCH, work);
        for (i = 0; i < PAIRS; ++i) seen[order[i]] += 1;
        for (i = 0; i < PAIRS; ++i) CHECK(seen[i] == 1, "pair %d comes %d times", i, seen[i]);
        for (i = 0; i < PAIRS; ++i) {
            bool shares = false;
            int batch = i < placed ? i / BATCH : (placed - 1) / BATCH, last = i < placed ? i : placed;
            for (j = batch * BATCH; j < last; ++j)
                shares = shares || keys[2 * order[i]] == keys[2 * order[j]] || keys[2 * order[i]] == keys[2 * order[j] + 1]
                    || keys[2 * order[i] + 1] == keys[2 * order[j]] || keys[2 * order[i] + 1] == keys[2 * order[j] + 1];
            if (i < placed) twice += shares;
            else free_ones += !shares;
            moved += order[i] != i * 7 % PAIRS;
        }
        CHECK(twice == 0 && free_ones == 0 && placed > 0, "%d texts: %d pairs share a text, %d could be placed of %d",
              texts[k], twice, free_ones, PAIRS - placed);
        CHECK(k == 0 ? moved == 0 && placed == PAIRS : k > 2 ? placed <= BATCH : placed >= PAIRS / 3,
              "%d texts: %d moved, %d placed", texts[k], moved, placed);
    }
}

/* ---- Streams ---- */

static void test_streams(void)
{
    enum { ROWS = 3, STEPS = 4 };
    const char text[] = "abcdefghijklmnopqrstuvwxyzabcdefgh"; /* 34: 3 streams of 11, one left over */
    ft_model *m = new_model(0);
    ft_data *data = ft_text_streams(m, NULL, (ft_stream_options){
        .streams = ROWS, .steps = STEPS, .memory = text, .bytes = sizeof text - 1});
    int32_t tokens[STEPS], labels[STEPS], lengths;
    ft_slot slots[3];
    int i, k;
    slot(&slots[0], "tokens", STEPS, tokens);
    slot(&slots[1], "labels", STEPS, labels);
    slot(&slots[2], "lengths", 0, &lengths);
    CHECK(data && ft_data_count(data) == 3 * ROWS && data->source.streams == ROWS,
          "%d pieces: %s", ft_data_count(data), ft_error_text(m));
    for (i = 0; i < 3 * ROWS; ++i) {
        int row = i % ROWS, piece = i / ROWS, real = piece < 2 ? STEPS : 3;
        CHECK(data->source.get(data->source.user, i, 0, slots, 3) && lengths == real, "piece %d", i);
        for (k = 0; k < STEPS; ++k) {
            int at = row * 11 + piece * STEPS + k;
            const char *now = ft_tokenizer_piece(ft_get_tokenizer(m), tokens[k]);
            const char *next = ft_tokenizer_piece(ft_get_tokenizer(m), labels[k]);
            if (k >= real) CHECK(tokens[k] == 0 && labels[k] == -1, "padding of piece %d", i);
            else CHECK(*now == text[at] && *next == text[at + 1], "piece %d, step %d: %c, then %c",
                       i, k, *now, *next);
        }
    }
    CHECK(!ft_text_streams(m, NULL, (ft_stream_options){.memory = "abc", .bytes = 3})
          && ft_error(m) == FT_INVALID, "too short for 32 streams: %s", ft_error_text(m));
    ft_destroy(m);
}

/* The texts of a column, words: each ends with <eos>. */
static void test_stream_of_lines(void)
{
    ft_model *m = new_model(0);
    const char text[] = "a b\t0\nb\t1\n";
    ft_data *data = ft_text_streams(m, NULL, (ft_stream_options){
        .streams = 1, .steps = 8, .text_column = "1", .vocabulary_kind = FT_WORDS, .memory = text,
        .bytes = sizeof text - 1});
    const int want[] = {3, 2, 3, 2}; /* b is more frequent than a: 3; <eos> is 2 */
    int32_t labels[8];
    ft_slot slots[1];
    int k;
    slot(&slots[0], "labels", 8, labels);
    CHECK(data && data->source.get(data->source.user, 0, 0, slots, 1), "%s", ft_error_text(m));
    for (k = 0; k < 4; ++k)
        CHECK(labels[k] == want[k], "label %d is %d", k, labels[k]);
    ft_destroy(m);
}

int main(void)
{
    test_tables();
    test_csv_lines();
    test_errors();
    test_folder();
    test_per_class();
    test_get();
    test_next_words(false);
    test_next_words(true);
    test_shuffled_words();
    test_subsampled_words();
    test_wrong_views();
    test_cut_and_empty();
    test_bucket();
    test_distinct_order();
    test_streams();
    test_stream_of_lines();
    return check_done("test_text");
}
