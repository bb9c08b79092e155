/* test_ner.c - classes of words: CoNLL files, words to pieces as Hugging Face does, networks of its
   ...ForTokenClassification, entities as seqeval counts (goldens made by tests/golden/make_ner.py),
   training, prediction. */
#include "finetune.h"
#include "check.h"
#include "goldens.h"
#include "log.h"
#include "public.h"
#include <sys/stat.h>

enum { SAMPLES = 3, STEPS = 9, CLASSES = 3, MOST = 64 };

static const char folder[] = "tests/golden/ner";

static ft_model *create(void)
{
    log_text[0] = 0;
    return ft_create((ft_desc){.log = collect, .threads = 1, .seed = 5});
}

static bool said(const char *text) { return strstr(log_text, text) != NULL; }

static ft_data *conll(ft_model *m, const char *text, ft_text_options o)
{
    o.memory = text;
    o.bytes = strlen(text);
    return ft_texts(m, NULL, o);
}

/* ---- The reader ---- */

static void expect_error(const char *what, const char *text, ft_text_options o, const char *error)
{
    ft_model *m = create();
    CHECK(!conll(m, text, o) && strstr(ft_error_text(m), error), "%s: \"%s\", not \"%s\"", what,
          ft_error_text(m), error);
    ft_destroy(m);
}

static const char good[] = "\xef\xbb\xbf" /* a byte order mark */
    "-DOCSTART- -X- -X- O\r\n\r\n"
    "\n"
    "Empire\tNN\tB-location\n"
    "State\tNN\tI-location\n"
    ".\t.\tO\n"
    "\t\n" /* the trap of WNUT 17 */
    "Ada NNP   B-person \n"
    "came  VB  O\n"
    "-DOCSTART- O\n"
    "#end\tO"; /* a hash tag, no comment; no end of line */

static void test_reader(void)
{
    static const char *const names[] = {"B-location", "B-person", "I-location", "I-person", "O"};
    ft_model *m = create();
    ft_data *data = conll(m, good, (ft_text_options){0});
    int i;
    CHECK(data && ft_data_count(data) == 3, "%s", ft_error_text(m));
    CHECK(ft_data_task(data) == FT_TASK_TOKENS, "task %d", (int)ft_data_task(data));
    CHECK(ft_data_classes(data) == 5, "%d classes", ft_data_classes(data));
    for (i = 0; i < 5; ++i)
        CHECK(!strcmp(ft_data_class_name(data, i), names[i]), "class %d: %s", i, ft_data_class_name(data, i));
    CHECK(!strcmp(ft_data_name(data, 0), "Empire State ."), "%s", ft_data_name(data, 0));
    CHECK(!strcmp(ft_data_name(data, 1), "Ada came"), "%s", ft_data_name(data, 1));
    CHECK(!strcmp(ft_data_name(data, 2), "#end"), "%s", ft_data_name(data, 2));
    CHECK(said("3 sentences of 6 words, entities of 2 types (location, person)"), "%s", log_text);
    CHECK(!said("IOB1"), "%s", log_text);
    CHECK(ft_data_label(data, 0) == -1, "a sentence has no class of its own");
    ft_destroy(m);
}

static void test_reader_errors(void)
{
    const ft_text_options tokens = {.task = FT_TASK_TOKENS}, named = {.format = "conll"};
    expect_error("no tag", "a O\n\nb\n", tokens, "line 3 has 1 column");
    expect_error("no word", "a\tO\n\tO\n", tokens, "line 2 has a tag without a word");
    expect_error("other tag", "a O\nb S-PER\n", tokens, "line 2: the tag is S-PER");
    expect_error("no type", "a O\nb B-\n", tokens, "line 2: the tag is B-");
    expect_error("lower case", "a o\n", tokens, "line 1: the tag is o");
    expect_error("Latin-1", "a O\nb O\n\xe9t\xe9 O\n", tokens, "line 3: byte 0xe9 is not UTF-8");
    expect_error("nothing", "\n\t\n", tokens, "has no texts");
    expect_error("empty", "", named, "has no texts");
    expect_error("a table by content", "a good film\t1\na bad film\t0\n",
                 named, "line 1: the tag is 1");
    expect_error("per_class", "a O\n", (ft_text_options){.task = FT_TASK_TOKENS, .per_class = 1},
                 "per_class has no effect");
    expect_error("unlabelled", "a O\n", (ft_text_options){.task = FT_TASK_TOKENS, .unlabelled = true},
                 "unlabelled has no effect");
    expect_error("another task", "a O\n", (ft_text_options){.format = "conll", .task = FT_TASK_CLASSIFICATION},
                 "task has no effect");
    expect_error("a table's tokens", "a O\n", (ft_text_options){.format = "tsv", .task = FT_TASK_TOKENS},
                 "task has no effect");
}

/* Every beginning of a file, and the file with one byte changed, is read or refused. */
static void test_damaged(void)
{
    static const unsigned char bytes[] = {0, '\t', '\n', ' ', 0xff, 0xe2, 'B', '-'};
    char text[sizeof good];
    size_t i, k;
    int read = 0, refused = 0;
    for (i = 0; i < 2 * sizeof good; ++i) {
        ft_model *m = create();
        ft_text_options o = {.memory = text, .bytes = i < sizeof good ? i : sizeof good - 1, .task = FT_TASK_TOKENS};
        memcpy(text, good, sizeof good);
        if (i >= sizeof good) text[i - sizeof good] = (char)bytes[i % sizeof bytes];
        if (ft_texts(m, NULL, o)) read += 1;
        else {
            refused += 1;
            CHECK(ft_error(m) == FT_FORMAT, "byte %d: %s", (int)i, ft_error_text(m));
        }
        ft_destroy(m);
    }
    CHECK(read > 50 && refused > 50, "%d read, %d refused", read, refused);
    for (k = 0; k < 2; ++k) { /* a huge word; a huge tag */
        ft_model *m = create();
        size_t size = 1 << 20;
        char *huge = (char *)malloc(size + 9);
        memset(huge, 'x', size);
        strcpy(huge + size, k ? "\n" : " B-x\n");
        if (k) memcpy(huge, "a B-", 4);
        CHECK(conll(m, huge, (ft_text_options){.task = FT_TASK_TOKENS}) && ft_error(m) == FT_OK, "%.200s", ft_error_text(m));
        ft_destroy(m);
        free(huge);
    }
}

/* A file of any name whose content shows what it is; and tables, which stay tables. */
static void test_recognised(void)
{
    static const char *const tables[] = {
        "text\tlabel\na good film\tO\n\na bad film\tB-a\n", /* its header has no tag */
        "a good film\tO\na bad film\tB-a\n",                 /* no empty line */
        "a\tB-x\n\nb\tI-x\n"};                               /* never outside */
    size_t i;
    for (i = 0; i < sizeof tables / sizeof tables[0]; ++i) {
        ft_model *m = create();
        ft_data *data = conll(m, tables[i], (ft_text_options){0});
        CHECK(data && ft_data_task(data) != FT_TASK_TOKENS, "%d: %s", (int)i, ft_error_text(m));
        ft_destroy(m);
    }
}

/* Older files: an entity begins with I- unless one of its type ends just before. */
static void test_iob1(void)
{
    ft_model *m = create(), *b = create();
    static const char old[] = "Ada I-x\nB I-x\nC B-x\nD I-y\nE O\n\nF I-x\nG O\n";
    static const char now[] = "Ada B-x\nB I-x\nC B-x\nD B-y\nE O\n\nF B-x\nG O\n";
    ft_network_options net = {.task = FT_TASK_TOKENS, .classes = 5, .hidden = 4, .heads = 1, .layers = 1};
    float got[10], want[10];
    ft_data *data = conll(m, old, (ft_text_options){0}), *other = conll(b, now, (ft_text_options){0});
    log_text[0] = 0;
    ft_network(m, "bert", net);
    ft_network(b, "bert", net);
    ft_evaluate(m, data, (ft_evaluate_options){0});
    ft_evaluate(b, other, (ft_evaluate_options){0});
    ft_get(m, ft_find(m, "labels"), got, 10);
    ft_get(b, ft_find(b, "labels"), want, 10);
    CHECK(!ft_error(m) && !ft_error(b), "%s, %s", ft_error_text(m), ft_error_text(b));
    CHECK(memcmp(got, want, sizeof got) == 0, "labels differ");
    ft_destroy(m);
    m = create();
    conll(m, old, (ft_text_options){0});
    CHECK(said("3 tags at the start of an entity are I- (IOB1)"), "%s", log_text);
    ft_destroy(m);
    ft_destroy(b);
}

/* ---- Words to pieces ---- */

static char *cut_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (!*line) return NULL;
    if (end) *end = 0;
    *at = end ? end + 1 : line + strlen(line);
    return line;
}

static char *whole_file(const char *name)
{
    char path[300];
    FILE *file;
    char *text = (char *)calloc(1, 1 << 16);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    CHECK(file && text && fread(text, 1, (1 << 16) - 1, file) > 0, "%s", path);
    if (file) fclose(file);
    return text;
}

static int read_numbers(const char *text, int *to)
{
    int count = 0, taken;
    while (count < 300 && sscanf(text, "%d%n", &to[count], &taken) == 1) {
        text += taken;
        count += 1;
    }
    return count;
}

static ft_model *with_tokenizer(const char *name)
{
    ft_model *m = create();
    ft_tokenizer_options how = {0};
    char path[300];
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s", name);
    if (!strcmp(name, "bpe-vocab.json")) how.merges = "tests/golden/tokenizers/bpe-merges.txt";
    ft_set_tokenizer(m, ft_tokenizer_load(m, path, how));
    return m;
}

/* The ids and the labels that reach the network, of one sentence whose words have the tags O and
   B-x by turns. */
static void check_pieces(const char *tokenizer, char *words, const char *ids, const char *places)
{
    ft_model *m = with_tokenizer(tokenizer);
    char text[4096] = "", *word;
    int want[300], place[300], count = read_numbers(ids, want), many = read_numbers(places, place), i, k;
    int32_t got[300], labels[300];
    ft_data *data;
    ft_network_options net = {.task = FT_TASK_TOKENS, .classes = 3, .hidden = 4, .heads = 1, .layers = 1};
    for (i = 0, word = strtok(words, "\t"); word; word = strtok(NULL, "\t"), ++i)
        sprintf(text + strlen(text), "%s\t%s\n", word, i % 2 ? "B-x" : "O");
    CHECK(i == many, "%d words, not %d", i, many);
    data = conll(m, text, (ft_text_options){.task = FT_TASK_TOKENS});
    ft_network(m, "bert", net); /* classes B-x, I-x, O; or only O */
    ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK, "%s: %s", tokenizer, ft_error_text(m));
    CHECK(ft_get(m, ft_find(m, "tokens"), (float *)(void *)got, (size_t)count) == FT_OK, "%s: %s: %s", tokenizer,
          ids, ft_error_text(m));
    ft_get(m, ft_find(m, "labels"), (float *)(void *)labels, (size_t)count);
    for (i = 0; i < count; ++i) CHECK(got[i] == want[i], "%s: id %d is %d, not %d", tokenizer, i, got[i], want[i]);
    for (i = 0; i < count; ++i) {
        int expected = -1;
        for (k = 0; k < many; ++k)
            if (place[k] == i) expected = k % 2 || ft_data_classes(data) == 1 ? 0 : 2;
        CHECK(labels[i] == expected, "%s: %s: label %d is %d, not %d", tokenizer, ids, i, labels[i], expected);
    }
    ft_destroy(m);
}

static void test_pieces(void)
{
    char *text = whole_file("pieces.txt"), *at = text, *line, tokenizer[64] = "";
    int cases = 0;
    while ((line = cut_line(&at)) != NULL) {
        size_t bytes = strlen(line);
        if (bytes > 5 && !strcmp(line + bytes - 5, ".json")) snprintf(tokenizer, sizeof tokenizer, "%s", line);
        else {
            char *ids = cut_line(&at), *places = cut_line(&at);
            check_pieces(tokenizer, line, ids, places);
            cases += 1;
        }
    }
    CHECK(cases == 18, "%d cases", cases);
    free(text);
}

/* ---- Hugging Face's networks ---- */

static void feed(ft_model *m, ft_file *expected, const char *network)
{
    int32_t ids[SAMPLES * STEPS], lengths[SAMPLES], labels[SAMPLES * STEPS];
    golden_numbers(expected, network, "ids", ids, sizeof ids);
    golden_numbers(expected, "", "lengths", lengths, sizeof lengths);
    golden_numbers(expected, "", "labels", labels, sizeof labels);
    ft_set_length(m, STEPS);
    ft_feed(m, ft_find(m, "tokens"), ids, SAMPLES);
    ft_feed(m, ft_find(m, "lengths"), lengths, SAMPLES);
    ft_feed(m, ft_find(m, "labels"), labels, SAMPLES);
}

/* Compares the logits of the real steps. */
static void compare(ft_model *m, ft_file *expected, const char *network, const char *key, double tolerance)
{
    static const int lengths[SAMPLES] = {9, 1, 5};
    float got[SAMPLES * STEPS * CLASSES], want[SAMPLES * STEPS * CLASSES];
    double largest = 0, worst = 0;
    int n, i;
    feed(m, expected, network);
    ft_forward(m, false);
    ft_get(m, ft_output(m), got, SAMPLES * STEPS * CLASSES);
    golden_numbers(expected, network, key, want, sizeof want);
    for (n = 0; n < SAMPLES; ++n)
        for (i = n * STEPS * CLASSES; i < (n * STEPS + lengths[n]) * CLASSES; ++i) {
            double d = fabs((double)got[i] - (double)want[i]);
            if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
            worst = worse(worst, d);
        }
    CHECK(largest > 0.1 && worst <= tolerance * largest, "%s, %s: off by %g of %g", network, key, worst, largest);
}

static void test_network(ft_file *expected, const char *network)
{
    static const char *const tags[] = {"O", "B-PER", "I-PER"};
    ft_model *m = create(), *again;
    char path[300];
    int c;
    snprintf(path, sizeof path, "%s/%s", folder, network);
    ft_load(m, path, (ft_load_options){0});
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
    CHECK(ft_class_count(m) == CLASSES, "%s: %d classes", network, ft_class_count(m));
    for (c = 0; c < CLASSES && strcmp(network, "roberta"); ++c)
        CHECK(ft_class_name(m, c) && !strcmp(ft_class_name(m, c), tags[c]), "%s: class %d", network, c);
    compare(m, expected, network, "logits", 1e-4);
    GOLDEN_STEPS(m, expected, network, feed(m, expected, network));
    compare(m, expected, network, "after", 1e-3);
    snprintf(path, sizeof path, "build/ner_%s.safetensors", network);
    ft_save(m, path, (ft_save_options){0});
    again = create();
    ft_load(again, path, (ft_load_options){0});
    compare(again, expected, network, "after", 1e-3);
    CHECK(ft_class_count(again) == CLASSES && !strcmp(ft_class_name(again, 1), ft_class_name(m, 1)),
          "%s: saved, loaded: %d classes", network, ft_class_count(again));
    CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
    remove(path);
}

/* ---- Entities: each case as a network that answers what its tokens say ---- */

/* Token t is a word whose class is `wanted` (t / classes) and that is predicted as t % classes. */
typedef struct reading { int tokens[MOST][MOST], lengths[MOST]; int classes; } reading;

static bool get_reading(void *user, int index, int view, ft_slot *slots, int count)
{
    const reading *r = (const reading *)user;
    int s, i;
    (void)view;
    for (s = 0; s < count; ++s) {
        int32_t *to = (int32_t *)slots[s].values;
        if (!strcmp(slots[s].name, "lengths")) *to = r->lengths[index];
        if (slots[s].shape.rank != 1) continue;
        for (i = 0; i < slots[s].shape.size[0]; ++i) {
            int token = i < r->lengths[index] ? r->tokens[index][i] : 0;
            to[i] = !strcmp(slots[s].name, "tokens") ? token : i < r->lengths[index] ? token / r->classes : -1;
        }
        slots[s].length = r->lengths[index];
    }
    return true;
}

static int reading_length(void *user, int index) { return ((const reading *)user)->lengths[index]; }

static const char *const bio[] = {"B-a", "B-b-c", "I-a", "I-b-c", "O"};

/* Evaluates sentences of tokens; the names of the classes are the five of `bio`, or others. */
static ft_evaluation evaluate_reading(reading *r, int sentences, const char *const *names)
{
    ft_model *m = create();
    ft_source source = {.user = r, .count = sentences, .classes = 5, .get = get_reading, .length = reading_length};
    ft_evaluation e;
    ft_node x, weight;
    float one_hot[25 * 5];
    int t, c;
    r->classes = 5;
    for (t = 0; t < 25; ++t)
        for (c = 0; c < 5; ++c) one_hot[5 * t + c] = c == t % 5;
    x = add_input(m, "tokens", FT_I32, FT_LENGTH, 0, 0);
    add_input(m, "lengths", FT_I32, 0, 0, 0);
    weight = ft_parameter(m, "table", (ft_parameter_options){.size = {25, 5}});
    ft_set(m, weight, one_hot, 125);
    x = ft_embedding(m, "answer", x, 25, 5, (ft_embedding_options){.weight = weight});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, add_input(m, "labels", FT_I32, FT_LENGTH, 0, 0),
                                    (ft_loss_options){0}));
    ft_set_class_names(m, 5, names);
    e = ft_evaluate(m, ft_data_source(m, source), (ft_evaluate_options){.batch_size = 2});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    return e;
}

static int bio_class(const char *tag)
{
    int c = 0;
    while (c < 4 && strcmp(bio[c], tag)) ++c;
    return c;
}

/* The naive count: every stretch of words of a sentence is compared with the definition of an entity. */
static bool is_entity(const int *tags, int length, int first, int last)
{
    const char *name = bio[tags[first]], *before = first ? bio[tags[first - 1]] : "O";
    const char *after = last + 1 < length ? bio[tags[last + 1]] : "O";
    int i;
    if (*name == 'O') return false;
    if (*name == 'I' && *before != 'O' && !strcmp(before + 1, name + 1)) return false; /* goes on */
    for (i = first + 1; i <= last; ++i)
        if (bio[tags[i]][0] != 'I' || strcmp(bio[tags[i]] + 1, name + 1)) return false;
    return !(*after == 'I' && !strcmp(after + 1, name + 1));
}

static void naive(const reading *r, int sentences, int *correct, int *predicted, int *total)
{
    int n, first, last, i, want[MOST], got[MOST];
    *correct = *predicted = *total = 0;
    for (n = 0; n < sentences; ++n) {
        for (i = 0; i < r->lengths[n]; ++i) {
            want[i] = r->tokens[n][i] / 5;
            got[i] = r->tokens[n][i] % 5;
        }
        for (first = 0; first < r->lengths[n]; ++first)
            for (last = first; last < r->lengths[n]; ++last) {
                bool a = is_entity(want, r->lengths[n], first, last), b = is_entity(got, r->lengths[n], first, last);
                *total += a;
                *predicted += b;
                *correct += a && b && !strcmp(bio[want[first]] + 1, bio[got[first]] + 1);
            }
    }
}

static void check_counts(const char *what, reading *r, int sentences)
{
    ft_evaluation e = evaluate_reading(r, sentences, bio);
    int correct, predicted, total;
    naive(r, sentences, &correct, &predicted, &total);
    CHECK(e.entities && e.entities_correct == correct && e.entities_predicted == predicted
          && e.entities_total == total, "%s: %d %d %d, not %d %d %d", what, e.entities_correct,
          e.entities_predicted, e.entities_total, correct, predicted, total);
}

static void test_seqeval(void)
{
    char *text = whole_file("entities.txt"), *at = text, *line;
    reading *r = (reading *)calloc(1, sizeof *r);
    int cases = 0;
    while ((line = cut_line(&at)) != NULL) {
        double precision, recall, f1;
        int sentences, n;
        char what[32];
        ft_evaluation e;
        CHECK(sscanf(line, "%d %lf %lf %lf", &sentences, &precision, &recall, &f1) == 4, "%s", line);
        for (n = 0; n < sentences; ++n) {
            char *want = cut_line(&at), *got = cut_line(&at), a[16], b[16];
            int taken, other;
            for (r->lengths[n] = 0; sscanf(want, "%15s%n", a, &taken) == 1; want += taken, got += other) {
                sscanf(got, "%15s%n", b, &other);
                r->tokens[n][r->lengths[n]++] = 5 * bio_class(a) + bio_class(b);
            }
        }
        e = evaluate_reading(r, sentences, bio);
        CHECK(e.entities && CLOSE(e.precision, precision, 1e-8) && CLOSE(e.recall, recall, 1e-8)
              && CLOSE(e.f1, f1, 1e-8), "case %d: %g %g %g, seqeval %g %g %g", cases, e.precision, e.recall,
              e.f1, precision, recall, f1);
        snprintf(what, sizeof what, "case %d", cases++);
        check_counts(what, r, sentences);
    }
    CHECK(cases == 38, "%d cases", cases);
    free(text);
    free(r);
}

static void test_naive(void)
{
    reading *r = (reading *)calloc(1, sizeof *r);
    unsigned state = 7;
    int n, i, round;
    for (round = 0; round < 20; ++round) {
        for (n = 0; n < 8; ++n) {
            r->lengths[n] = 1 + (int)((state = state * 1103515245u + 12345u) >> 16) % 30;
            for (i = 0; i < r->lengths[n]; ++i) {
                int want = (int)((state = state * 1103515245u + 12345u) >> 16) % 5;
                int got = (int)((state = state * 1103515245u + 12345u) >> 16) % 10;
                r->tokens[n][i] = 5 * want + (got < 5 ? got : want);
            }
        }
        check_counts("random", r, 8);
    }
    free(r);
}

/* Accuracy is of words; classes of other names have no entities. */
static void test_other_classes(void)
{
    static const char *const parts[] = {"noun", "verb", "O", "B-a", "I-a"};
    reading *r = (reading *)calloc(1, sizeof *r);
    ft_evaluation e;
    r->lengths[0] = 3;
    r->tokens[0][0] = 0;
    r->tokens[0][1] = 6;
    r->tokens[0][2] = 5 * 4 + 3;
    r->lengths[1] = 1;
    r->tokens[1][0] = 12;
    e = evaluate_reading(r, 2, parts);
    CHECK(!e.entities && e.f1 == 0 && e.entities_total == 0, "entities of %d", e.entities_total);
    CHECK(e.correct == 3 && e.total == 4, "%d of %d words", e.correct, e.total);
    e = evaluate_reading(r, 2, bio);
    CHECK(e.entities && e.correct == 3 && e.total == 4, "%d of %d words", e.correct, e.total);
    free(r);
}

/* ---- Training and prediction ---- */

/* Random sentences of a small language: "mr" and a name are one person, a name alone is one too. */
static char lesson[1 << 15];

static void write_lesson(void)
{
    static const char *const words[] = {"mr", "ada", "bo", "paris", "rome", "he", "lives", "in", "now", "is",
                                        "(", ")", ",", "'s", "\xe2\x80\x9c", "\xe2\x80\x9d", "."};
    unsigned state = 3;
    int n, i, length, last;
    size_t at = 0;
    for (n = 0; n < 150; ++n) {
        length = 1 + (int)((state = state * 1103515245u + 12345u) >> 16) % 11;
        for (i = 0, last = -1; i < length; ++i) {
            int word = (int)((state = state * 1103515245u + 12345u) >> 16) % 17;
            if (word == 0 && i + 1 == length) word = 1;
            if (last == 0) word = 1 + word % 2;
            at += (size_t)sprintf(lesson + at, "%s %s\n", words[word], last == 0 ? "I-person" : word < 3 ? "B-person"
                                  : word < 5 ? "B-place" : "O");
            last = word;
        }
        at += (size_t)sprintf(lesson + at, "\n");
    }
}

static ft_model *small_bert(ft_data **data)
{
    ft_model *m = create();
    *data = conll(m, lesson, (ft_text_options){0});
    ft_network(m, "bert", (ft_network_options){.classes = 2, .hidden = 16, .heads = 2, .layers = 2,
                                               .feed_forward = 32, .positions = 12});
    return m;
}

static void check_entity(const ft_entity *e, const char *text, const char *type, const char *words)
{
    CHECK(!strcmp(e->type, type) && e->bytes == strlen(words) && !memcmp(text + e->start, words, e->bytes)
          && e->probability > 0.5f && e->probability <= 1.0001f, "%s: %.*s, %g", e->type, (int)e->bytes,
          text + e->start, (double)e->probability);
}

static void check_predictions(ft_model *m)
{
    static const char text[] = "(mr  ada lives in paris, now.)\nHe is in Rome's \xe2\x80\x9crome\xe2\x80\x9d";
    static const char *const words[] = {"mr", "ada", "came", ""};
    ft_entity found[8];
    ft_prediction best[4];
    int count = ft_predict_entities(m, text, strlen(text), found, 8);
    CHECK(count == 4, "%d entities: %s", count, ft_error_text(m));
    if (count == 4) {
        check_entity(&found[0], text, "person", "mr  ada");
        check_entity(&found[1], text, "place", "paris");
        check_entity(&found[2], text, "place", "Rome");
        check_entity(&found[3], text, "place", "rome");
    }
    CHECK(ft_predict_entities(m, text, strlen(text), found, 1) == 4, "a short list");
    CHECK(ft_predict_entities(m, text, strlen(text), NULL, 0) == 4, "no list");
    CHECK(ft_predict_entities(m, " \n", 2, found, 8) == 0 && !ft_error(m), "no words: %s", ft_error_text(m));
    CHECK(ft_predict_words(m, words, 4, best) == 3, "%s", ft_error_text(m));
    if (ft_error(m)) return;
    CHECK(!strcmp(ft_class_name(m, best[0].class_index), "B-person")
          && !strcmp(ft_class_name(m, best[1].class_index), "I-person")
          && !strcmp(ft_class_name(m, best[2].class_index), "O"), "classes of words");
    CHECK(best[3].class_index == -1 && best[3].probability == 0 && best[0].probability > 0.5f, "no word");
}

/* A text of more tokens than the network has positions is read in parts. */
static void check_long(ft_model *m)
{
    char text[1200] = "";
    ft_entity found[64];
    int count, i;
    for (i = 0; i < 30; ++i) strcat(text, "he lives in paris now he ");
    count = ft_predict_entities(m, text, strlen(text), found, 64);
    CHECK(count == 30, "%d entities: %s", count, ft_error_text(m));
    for (i = 0; i < count; ++i)
        CHECK(found[i].start == 25 * (size_t)i + 12 && found[i].bytes == 5, "entity %d at %d", i, (int)found[i].start);
}

/* What is cut off counts as O. */
static void check_cut(ft_model *m)
{
    ft_data *data;
    ft_evaluation e;
    log_text[0] = 0;
    data = conll(m, "he O\nlives O\nin O\nparis B-place\n\nmr B-person\nada I-person\ncame O\n",
                 (ft_text_options){.match_classes = true, .longest = 3});
    CHECK(said("1 of the sentences are longer than 3 tokens (max_length): 1 words are cut off"), "%s", log_text);
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(e.entities_total == 2 && e.entities_predicted == 1 && e.entities_correct == 1 && e.total == 6,
          "%d %d %d of %d: %s", e.entities_correct, e.entities_predicted, e.entities_total, e.total, ft_error_text(m));
}

static void test_training(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data), *again = create();
    float outside[5];
    int i;
    ft_finetune_result r;
    ft_evaluation e;
    ft_prediction best;
    CHECK(ft_class_count(m) == 2 && ft_node_shape(m, ft_output(m)).rank == 2, "before: %d", ft_class_count(m));
    r = ft_finetune(m, data, (ft_finetune_options){.epochs = 40, .learning_rate = 5e-3f});
    CHECK(ft_error(m) == FT_OK && r.fit.accuracy > 0.95, "%s: %g", ft_error_text(m), r.fit.accuracy);
    CHECK(ft_class_count(m) == 5 && ft_node_shape(m, ft_output(m)).rank == 3, "after: %d", ft_class_count(m));
    CHECK(!strcmp(ft_architecture(m), "bert"), "architecture %s", ft_architecture(m));
    e = ft_evaluate(m, data, (ft_evaluate_options){.batch_size = 3});
    CHECK(e.entities && e.f1 == 1 && e.correct == e.total, "F1 %g of %d, %d words: %s", e.f1, e.entities_total,
          e.total, ft_error_text(m));
    check_predictions(m);
    check_long(m);
    ft_save(m, "build/ner.safetensors", (ft_save_options){0});
    ft_load(again, "build/ner.safetensors", (ft_load_options){0});
    CHECK(ft_error(again) == FT_OK && ft_class_count(again) == 5, "%s", ft_error_text(again));
    check_predictions(again);
    data = conll(again, "ada O\n\nmr B-person\nbo I-person\n", (ft_text_options){.match_classes = true});
    e = ft_evaluate(again, data, (ft_evaluate_options){0});
    CHECK(e.entities_total == 1 && e.entities_correct == 1 && e.entities_predicted == 2, "%d %d %d: %s",
          e.entities_correct, e.entities_predicted, e.entities_total, ft_error_text(again));
    CHECK(!said("no entity was found"), "%s", log_text);
    check_cut(again);
    for (i = 0; i < 5; ++i) outside[i] = strcmp(ft_class_name(again, i), "O") ? 0.0f : 900.0f;
    ft_set(again, ft_find(again, "classifier.bias"), outside, 5);
    ft_evaluate(again, data, (ft_evaluate_options){0});
    CHECK(said("no entity was found, of 1 in the data: train for more epochs, or with another learning rate"), "%s",
          log_text);
    CHECK(!ft_predict_text(again, "ada", 3, &best, 1) && strstr(ft_error_text(again), "ft_predict_entities"), "%s",
          ft_error_text(again));
    ft_clear_error(again);
    CHECK(!conll(again, "ada B-thing\nis O\n\n", (ft_text_options){.match_classes = true})
          && strstr(ft_error_text(again), "'B-thing' is not one of the 5 classes"), "%s", ft_error_text(again));
    ft_clear_error(again);
    CHECK(!ft_generate(again, (ft_generate_options){0}) && ft_error(again) == FT_INVALID, "generates");
    ft_clear_error(again);
    CHECK(!ft_predict_data(again, data, &best, 1, (ft_predict_options){0}) && ft_error(again) == FT_INVALID, "predicts");
    ft_destroy(again);
    ft_destroy(m);
    remove("build/ner.safetensors");
}

/* How a text is split, by a network that takes each word for an entity of its own. */
static void test_split(void)
{
    static const char *const cases[][2] = {
        {"Hello, world!", "Hello|,|world|!"}, {"(U.S. army)", "(|U.S.|army|)"}, {"e.g. x. ", "e.g.|x|."},
        {"It's @ada's #x.", "It|'s|@ada|'s|#x|."}, {"It 's", "It|'s"}, {"... -- :)", "...|--|:)"},
        {"wait... (((x)))", "wait|...|(((|x|)))"}, {"don\xe2\x80\x99t WE\xe2\x80\x99LL", "don\xe2\x80\x99t|WE|\xe2\x80\x99LL"},
        {"a-b \xe2\x80\x9cq\xe2\x80\x9d?!", "a-b|\xe2\x80\x9c|q|\xe2\x80\x9d|?|!"}, {"$5 50%", "$|5|50|%"},
        {"x\xe3\x80\x80y\tz\n", "x|y|z"}, {"@@x ##", "@@|x|##"}, {"", ""}, {" \t", ""}, {"\xff x", "x"}};
    ft_model *m = create();
    const char *word = "a";
    ft_entity found[32];
    float always[10];
    ft_node x, table;
    size_t i;
    int t, k, count;
    ft_set_tokenizer(m, ft_tokenizer_build(m, FT_WORDS, &word, 1, (ft_vocabulary_options){.spaces_only = true}));
    for (t = 0; t < 4; ++t) {
        always[2 * t] = 1;
        always[2 * t + 1] = 0;
    }
    x = add_input(m, "tokens", FT_I32, FT_LENGTH, 0, 0);
    table = ft_parameter(m, "table", (ft_parameter_options){.size = {4, 2}});
    ft_set(m, table, always, 8);
    ft_set_output(m, ft_embedding(m, "answer", x, 4, 2, (ft_embedding_options){.weight = table}));
    ft_set_class_names(m, 2, (const char *const[]){"B-word", "O"});
    ft_set_max_length(m, 3);
    for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        char got[200] = "";
        count = ft_predict_entities(m, cases[i][0], strlen(cases[i][0]), found, 32);
        for (k = 0; k < count; ++k)
            sprintf(got + strlen(got), "%s%.*s", k ? "|" : "", (int)found[k].bytes, cases[i][0] + found[k].start);
        CHECK(!strcmp(got, cases[i][1]), "%s: %s, not %s: %s", cases[i][0], got, cases[i][1], ft_error_text(m));
    }
    ft_destroy(m);
}

/* Data and networks that do not fit each other. */
static void test_mismatches(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data);
    ft_fit_result fit;
    fit = ft_fit(m, data, (ft_fit_options){.epochs = 1});
    CHECK(ft_error(m) && fit.epochs == 0, "words to texts: %s", ft_error_text(m));
    ft_destroy(m);
    m = small_bert(&data);
    ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
    data = conll(m, "he is\ta\nbo is\tb\n", (ft_text_options){0});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
    CHECK(ft_error(m) == FT_SHAPE && strstr(ft_error_text(m), "a class to each word"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = create();
    data = conll(m, lesson, (ft_text_options){0});
    ft_network(m, "lstm_lm", (ft_network_options){.hidden = 8, .embedding = 8});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "pools its steps"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = create();
    data = conll(m, lesson, (ft_text_options){0});
    ft_network(m, "bert", (ft_network_options){.hidden = 8, .heads = 1, .layers = 1, .task = FT_TASK_LANGUAGE_MODEL});
    CHECK(ft_error(m) == FT_INVALID, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A new head for more classes, then ft_fit by hand; recurrent networks too. */
static void test_heads(void)
{
    ft_model *m = create();
    ft_data *data = conll(m, lesson, (ft_text_options){0});
    ft_fit_result fit;
    ft_network(m, "bert", (ft_network_options){.classes = 3, .hidden = 16, .heads = 2, .layers = 1,
                                               .task = FT_TASK_TOKENS, .dropout = 0.1f});
    CHECK(ft_class_count(m) == 0, "a network without class names is no classifier yet");
    ft_replace_head(m, 5);
    fit = ft_fit(m, data, (ft_fit_options){.epochs = 10, .optimizer = {.learning_rate = 1e-2f}});
    CHECK(ft_error(m) == FT_OK && fit.accuracy > 0.9 && ft_class_count(m) == 5, "%s: %g, %d classes",
          ft_error_text(m), fit.accuracy, ft_class_count(m));
    ft_destroy(m);
    m = create();
    data = conll(m, lesson, (ft_text_options){0});
    ft_network(m, "lstm_classifier", (ft_network_options){.hidden = 16, .embedding = 16, .bidirectional = true,
                                                          .pooling = FT_POOL_ALL, .dropout = 0.2f});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 20, .learning_rate = 1e-2f});
    CHECK(ft_error(m) == FT_OK && ft_class_count(m) == 5, "%s", ft_error_text(m));
    CHECK(ft_find(m, "output_dropout").id && !ft_find(m, "pool_last").id, "the head's dropout, and no pooling");
    CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).f1 > 0.9, "recurrent");
    ft_destroy(m);
}

/* The best epoch of held-back sentences is the one of the best F1. */
static bool note_f1(void *user, const ft_progress *p)
{
    double *best = (double *)user;
    if (!p->epoch_done) return true;
    CHECK(p->metric == FT_METRIC_ENTITY_F1, "followed: %s", ft_metric_name(p->metric));
    if (p->held_back_metric > *best) *best = p->held_back_metric;
    return true;
}

static void test_held_back(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data);
    double best = -1;
    ft_finetune_result r = ft_finetune(m, data, (ft_finetune_options){
        .epochs = 12, .learning_rate = 5e-3f, .hold_back = 0.3f, .patience = 11, .progress = note_f1,
        .progress_user = &best});
    CHECK(ft_error(m) == FT_OK && r.fit.metric == FT_METRIC_ENTITY_F1 && best > 0.2, "%s: F1 %g", ft_error_text(m),
          best);
    CHECK(CLOSE(r.fit.held_back_metric, best, 1e-12), "%g, the best was %g", r.fit.held_back_metric, best);
    ft_destroy(m);
}

/* What the recipe does when it is told nothing. */
typedef struct recipe { float highest; int epochs; char stages[200]; } recipe;

static bool note_recipe(void *user, const ft_progress *p)
{
    recipe *r = (recipe *)user;
    if (p->learning_rate > r->highest) r->highest = p->learning_rate;
    r->epochs = p->epochs;
    if (!strstr(r->stages, p->stage)) strcat(r->stages, p->stage);
    return true;
}

static void test_recipe(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data);
    recipe r = {0};
    ft_finetune(m, data, (ft_finetune_options){.progress = note_recipe, .progress_user = &r});
    CHECK(ft_error(m) == FT_OK && !strcmp(r.stages, "all") && r.epochs == 20, "%s: %s, %d epochs", ft_error_text(m),
          r.stages, r.epochs);
    CHECK(r.highest > 0.95f * 4.8e-3f && r.highest <= 4.8e-3f, "16 wide, at %g", (double)r.highest);
    CHECK(ft_evaluate(m, data, (ft_evaluate_options){0}).f1 > 0.9, "F1 %g",
          ft_evaluate(m, data, (ft_evaluate_options){0}).f1);
    ft_destroy(m);
}

/* A stopped run goes on only with the same tags. */
static void test_resume(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data);
    static char other[sizeof lesson];
    ft_finetune(m, data, (ft_finetune_options){.epochs = 2, .checkpoint = "build/ner.checkpoint"});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = create();
    strcpy(other, lesson);
    *strstr(other, "B-place") = 'I'; /* read as B-: the same */
    data = conll(m, other, (ft_text_options){0});
    ft_network(m, "bert", (ft_network_options){.classes = 2, .hidden = 16, .heads = 2, .layers = 2,
                                               .feed_forward = 32, .positions = 12});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 2, .checkpoint = "build/ner.checkpoint"});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = create();
    strcpy(other, lesson);
    *strstr(other, "I-person") = 'B';
    data = conll(m, other, (ft_text_options){0});
    ft_network(m, "bert", (ft_network_options){.classes = 2, .hidden = 16, .heads = 2, .layers = 2,
                                               .feed_forward = 32, .positions = 12});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 2, .checkpoint = "build/ner.checkpoint"});
    CHECK(ft_error(m) && strstr(ft_error_text(m), "content of the samples differs"), "%s", ft_error_text(m));
    ft_destroy(m);
    remove("build/ner.checkpoint");
}

/* The new head for words is trained alone. */
static void test_head_only(void)
{
    ft_data *data;
    ft_model *m = small_bert(&data);
    ft_finetune_result r = ft_finetune(m, data, (ft_finetune_options){.head_only = true});
    CHECK(ft_error(m) == FT_OK && strstr(r.choice, "the head only; 20 epochs, learning rate 0.002"), "%s: %s", r.choice,
          ft_error_text(m));
    CHECK(!ft_node_frozen(m, ft_find(m, "classifier.weight")) && r.fit.accuracy > 0.5, "right %g", r.fit.accuracy);
    ft_freeze(m, "classifier.*");
    CHECK(ft_frozen_digest(m).tensors == r.fit.before.tensors + 2, "%d frozen", r.fit.before.tensors);
    ft_destroy(m);
}

/* ---- Adapters: the head for words is trained and saved beside them ---- */
static void test_adapters(void)
{
    ft_data *data, *other;
    ft_model *m = small_bert(&data), *again = small_bert(&other);
    ft_evaluation e;
    ft_lora(m, NULL, (ft_lora_options){.rank = 4});
    ft_finetune(m, data, (ft_finetune_options){.epochs = 20, .learning_rate = 1e-2f});
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && e.f1 > 0.9, "%s: F1 %g", ft_error_text(m), e.f1);
    CHECK(!ft_node_frozen(m, ft_find(m, "classifier.weight")), "the head is frozen");
    CHECK(ft_node_frozen(m, ft_find(m, "embeddings.word_embeddings.weight")), "the rest is not");
    mkdir("build/ner_adapter", 0777);
    ft_save_adapter(m, "build/ner_adapter", (ft_save_adapter_options){0});
    ft_load_adapter(again, "build/ner_adapter"); /* the same random weights, with a head for texts */
    CHECK(ft_error(again) == FT_OK && ft_class_count(again) == 5 && ft_node_shape(again, ft_output(again)).rank == 3,
          "%s: %d classes", ft_error_text(again), ft_class_count(again));
    CHECK(ft_evaluate(again, other, (ft_evaluate_options){0}).f1 == e.f1, "%s: F1", ft_error_text(again));
    ft_destroy(again);
    ft_destroy(m);
    remove("build/ner_adapter/adapter_config.json");
    remove("build/ner_adapter/adapter_model.safetensors");
    rmdir("build/ner_adapter");
}

int main(void)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_file *expected = open_golden(m, "ner/expected");
    test_reader();
    test_reader_errors();
    test_damaged();
    test_recognised();
    test_iob1();
    test_pieces();
    test_network(expected, "bert");
    test_network(expected, "roberta");
    test_network(expected, "distilbert");
    write_lesson();
    test_seqeval();
    test_naive();
    test_other_classes();
    test_training();
    test_split();
    test_mismatches();
    test_heads();
    test_held_back();
    test_recipe();
    test_resume();
    test_head_only();
    test_adapters();
    ft_file_close(expected);
    ft_destroy(m);
    return check_done("test_ner");
}
