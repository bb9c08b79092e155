/* test_tables.c - tables as people have them: headers, quotes, encodings, labels. Every fault is an
   error with its line; the log says which columns were chosen. */
#include "check.h"
#include "finetune.h"
#include <sys/stat.h>

static char said[4096]; /* the log's lines */

static void keep_line(void *user, const char *line)
{
    (void)user;
    if (strlen(said) + strlen(line) + 2 < sizeof said) strcat(strcat(said, line), "\n");
}

static ft_model *new_model(void)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.log = keep_line;
    said[0] = 0;
    return ft_create(desc);
}

static ft_data *read_bytes(ft_model *m, const char *bytes, size_t count, const char *format,
                           ft_text_options o)
{
    o.memory = bytes;
    o.bytes = count;
    o.format = format;
    return ft_texts(m, NULL, o);
}

static ft_data *read_table(ft_model *m, const char *text, const char *format, ft_text_options o)
{
    return read_bytes(m, text, strlen(text), format, o);
}

/* The rows of a table that most cases here share: 8 texts, 2 classes. */
#define ROWS(a, b) a "bread lovely" b "pos\n" a "bread awful" b "neg\n" a "soup warm" b "pos\n"     \
    a "soup cold" b "neg\n" a "tea fine" b "pos\n" a "tea bad" b "neg\n" a "cake good" b "pos\n"    \
    a "cake dull" b "neg\n"

typedef struct right {
    const char *table, *format, *text_column, *label_column;
    ft_table_header header;
    const char *says;
} right;

/* Each holds the texts and classes of ROWS, and the log says which columns they are from. */
static void test_columns(void)
{
    static const right all[] = {
        {"Text,Label\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO,
         "text from column 1 \"Text\", label from column 2 \"Label\"; line 1 is a header"},
        {"tweet,LABEL\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "column 1 \"tweet\""},
        {"words,label\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "column 1 \"words\""},
        {"headline,topic\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "label from column 2 \"topic\""},
        {" text , label\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "line 1 is a header"},
        {"tweet,label\n" ROWS("", ","), "csv", "1", "label", FT_HEADER_AUTO, "line 1 is a header"},
        {"Text,Label\n" ROWS("", ","), "csv", "1", "2", FT_HEADER_AUTO, "line 1 is a header"},
        {"some,what\n" ROWS("", ","), "csv", "1", "2", FT_HEADER_YES, "line 1 is a header"},
        {"some,what\n" ROWS("", ","), "csv", "SOME", NULL, FT_HEADER_AUTO, "label from column 2 \"what\""},
        {"id\ttext\ttopic\n" ROWS("7\t", "\t"), "tsv", NULL, NULL, FT_HEADER_AUTO,
         "text from column 2 \"text\", label from column 3 \"topic\""},
        {"id\theadline\ttopic\n" ROWS("7\t", "\t"), "tsv", "headline", NULL, FT_HEADER_AUTO, "column 3"},
        {ROWS("", "\t"), "tsv", NULL, NULL, FT_HEADER_AUTO,
         "text from column 1, label from column 2; line 1 is not a header"},
        {ROWS("7\t", "\t"), "tsv", "2", "3", FT_HEADER_AUTO, "text from column 2, label from column 3"},
        {ROWS("", "\t"), "tsv", "1", NULL, FT_HEADER_AUTO, "label from column 2"},
        {ROWS("", "\t"), "tsv", NULL, "2", FT_HEADER_AUTO, "text from column 1"},
        {"\xef\xbb\xbftext,label\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "\"text\""},
        {"\n\ntext,label\r\n\r\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO, "line 3 is a header"}};
    size_t i;
    for (i = 0; i < sizeof all / sizeof all[0]; ++i) {
        ft_model *m = new_model();
        ft_text_options o;
        ft_data *data;
        memset(&o, 0, sizeof o);
        o.text_column = all[i].text_column;
        o.label_column = all[i].label_column;
        o.header = all[i].header;
        data = read_table(m, all[i].table, all[i].format, o);
        CHECK(data, "table %zu: %s", i, ft_error_text(m));
        CHECK(ft_data_count(data) == 8 && ft_data_classes(data) == 2, "table %zu: %d texts of %d classes",
              i, ft_data_count(data), ft_data_classes(data));
        CHECK(!strcmp(ft_data_name(data, 1), "bread awful") && ft_data_label(data, 1) == 0,
              "table %zu: '%s'", i, ft_data_name(data, 1));
        CHECK(data && !strcmp(ft_data_class_name(data, 0), "neg"), "table %zu", i);
        CHECK(strstr(said, "8 texts of 2 classes (neg, pos); ") && strstr(said, all[i].says),
              "table %zu: %s", i, said);
        ft_destroy(m);
    }
}

/* Data that looks like a header is data where its label stands on another line too. */
static void test_data_like_a_header(void)
{
    ft_model *m = new_model();
    ft_text_options o;
    ft_data *data;
    memset(&o, 0, sizeof o);
    data = read_table(m, "review\tneg\nfine\tpos\nbad\tneg\ngood\tpos\ndull\tneg\n", "tsv", o);
    CHECK(ft_data_count(data) == 5 && ft_data_classes(data) == 2, "%d: %s", ft_data_count(data), said);
    o.header = FT_HEADER_NO;
    data = read_table(m, "text\tlabel\nfine\tpos\nbad\tneg\n", "tsv", o);
    CHECK(ft_data_count(data) == 3 && ft_data_classes(data) == 3, "%s", said);
    ft_destroy(m);
}

typedef struct wrong {
    const char *table, *format, *text_column, *label_column;
    ft_table_header header;
    const char *says;
} wrong;

/* What cannot be known, and what is damaged, is refused with the line. */
static void test_faults(void)
{
    static const wrong all[] = {
        {"text,label\nbread,\nsoup,neg\n", "csv", NULL, NULL, FT_HEADER_AUTO, "line 2: the label is empty"},
        {"text,label\nbread,pos\nsoup,  \n", "csv", NULL, NULL, FT_HEADER_AUTO, "line 3: the label is empty"},
        {"{\"text\":\"a\",\"label\":\"\"}\n", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 1: the label is empty"},
        {"label,text\npos,good\nneg,\"bad\npos,fine\n", "csv", NULL, NULL, FT_HEADER_AUTO,
         "line 3: the quote that opens here is never closed"},
        {"text,label\n\"bad\nday,pos\n\"good\" day,neg\n", "csv", NULL, NULL, FT_HEADER_AUTO,
         "line 4: there is text after the closing quote of a field that opens on line 2"},
        {"text,label\n\"one\ntwo\",pos\nthree\n", "csv", NULL, NULL, FT_HEADER_AUTO,
         "line 4 has 1 columns, line 1 has 2: put a text that contains a comma in quotes"},
        {"text,label\ngood, really,pos\n", "csv", NULL, NULL, FT_HEADER_AUTO, "line 2 has 3 columns"},
        {"text;label\ngood;pos\n", "csv", NULL, NULL, FT_HEADER_AUTO, "line 1 has only 1 column; a text and a"
         " label are expected, separated by a comma"},
        {"id,text,price\n1,good,2\n", "csv", NULL, NULL, FT_HEADER_AUTO,
         "line 1 has the columns id, text, price: which is the label? Set label_column (--label-column)"},
        {"1\tgood\tpos\n2\tbad\tneg\n", "tsv", NULL, NULL, FT_HEADER_AUTO,
         "has no known column name: set text_column"},
        {"text,label,label\na,b,c\n", "csv", NULL, "LABEL", FT_HEADER_AUTO, "several columns named LABEL"},
        {"text,label\na,b\n", "csv", "body", NULL, FT_HEADER_AUTO, "line 1 has no column named body: text, label"},
        {"text,label\na,b\n", "csv", "3", NULL, FT_HEADER_AUTO, "column 3 was not found"},
        {"text,label\na,b\n", "csv", "2", "2", FT_HEADER_AUTO, "column 2 cannot be both text and label"},
        {"text,label\na,b\n", "csv", "text", NULL, FT_HEADER_NO, "header says that there is no header line"},
        {"some,what\n" ROWS("", ","), "csv", NULL, NULL, FT_HEADER_AUTO,
         "is line 1 a header? Its label, what, is on no other line: set header (--header yes or no)"},
        {"some,what\na,1\nb,2\nc,3\nd,4\n", "csv", "1", "2", FT_HEADER_AUTO, "is line 1 a header?"},
        {"pos,a b\nneg,c d\npos,e f\nneg,g h\n", "csv", NULL, NULL, FT_HEADER_AUTO,
         "Column 2 has 4 different values on 4 lines, column 1 has 2: set text_column and label_column"},
        {"text,label\ncaf\xe9,pos\n", "csv", NULL, NULL, FT_HEADER_AUTO, "line 2: byte 0xe9 is not UTF-8"},
        {"{\"text\":\"caf\xe9\",\"label\":\"pos\"}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "byte 0xe9 is not UTF-8"},
        {"{\"text\":\"a\",\"label\":\"\\ud800\"}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 1 is not JSON"},
        {"{\"text\":\"a\",\"label\":\"b\\u0000\"}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 1 is not JSON"},
        {"{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\"}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 2 has no \"label\""},
        {"{\"text\":\"a\",\"label\":{\"id\":1}}", "jsonl", NULL, NULL, FT_HEADER_AUTO,
         "line 1: \"label\" is an object; a string, a number, true or false is expected"},
        {"{\"text\":[\"a\"],\"label\":1}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 1: \"text\" is a list; a string is expected"},
        {"{\"text\":\"a\",\"label\":null}", "jsonl", NULL, NULL, FT_HEADER_AUTO, "\"label\" is null"},
        {"[{\"text\":\"a\",\"label\":1}]", "jsonl", NULL, NULL, FT_HEADER_AUTO, "line 1 is a list; in JSON Lines each line must be an object"},
        {"{\"text\":\"a\",\"label\":1}\n{\"text\":\"a\",\"label\":1,\"label\":2}", "jsonl", NULL, NULL,
         FT_HEADER_AUTO, "line 2 has \"label\" twice"},
        {"{\"text\":\"a\",\"label\":1,\"label\":2}", "jsonl", "text", "label", FT_HEADER_AUTO,
         "several columns named label"}};
    size_t i;
    ft_model *m = new_model();
    for (i = 0; i < sizeof all / sizeof all[0]; ++i) {
        ft_text_options o;
        memset(&o, 0, sizeof o);
        o.text_column = all[i].text_column;
        o.label_column = all[i].label_column;
        o.header = all[i].header;
        CHECK(!read_table(m, all[i].table, all[i].format, o), "table %zu: %s", i, said);
        CHECK(ft_error(m) && strstr(ft_error_text(m), all[i].says), "table %zu: %s", i, ft_error_text(m));
        ft_clear_error(m);
    }
    ft_destroy(m);
}

/* ---- UTF-16, zero bytes ---- */

/* `text` as UTF-16 behind its mark; the letters of it are ASCII but '~', which is U+1F35E, a pair. */
static size_t to_utf16(const char *text, int high_first, char *to)
{
    static const unsigned pair[2] = {0xd83c, 0xdf5e};
    size_t at = 0;
    unsigned units[2];
    int count, i;
    for (; at == 0 || *text; text += at > 2 ? 1 : 0) {
        count = at > 0 && *text == '~' ? 2 : 1;
        for (i = 0; i < count; ++i)
            units[i] = at == 0 ? 0xfeff : count == 2 ? pair[i] : (unsigned char)*text;
        for (i = 0; i < count; ++i, at += 2) {
            to[at + (size_t)!high_first] = (char)(units[i] >> 8);
            to[at + (size_t)high_first] = (char)units[i];
        }
        if (at == 2) continue;
    }
    return at;
}

static void test_utf16(void)
{
    char bytes[2048];
    int high_first;
    for (high_first = 0; high_first < 2; ++high_first) {
        ft_model *m = new_model();
        ft_text_options o;
        size_t count = to_utf16("text\tlabel\n~ bread\tpos\nsoup\tneg\n", high_first, bytes);
        ft_data *data;
        memset(&o, 0, sizeof o);
        data = read_bytes(m, bytes, count, "tsv", o);
        CHECK(ft_data_count(data) == 2 && ft_data_classes(data) == 2, "UTF-16: %s", ft_error_text(m));
        CHECK(!strcmp(ft_data_name(data, 0), "\xf0\x9f\x8d\x9e bread"), "'%s'", ft_data_name(data, 0));
        CHECK(!read_bytes(m, bytes, count - 1, "tsv", o) && strstr(ft_error_text(m), "damaged UTF-16"),
              "half a letter: %s", ft_error_text(m));
        ft_clear_error(m);
        CHECK(!read_bytes(m, bytes + 2, count - 2, "tsv", o) && strstr(ft_error_text(m), "is zero, on line 1"),
              "no mark: %s", ft_error_text(m));
        ft_clear_error(m);
        CHECK(!read_bytes(m, "text\tlabel\na\tb\nc\0c\td\n", 22, "tsv", o)
              && strstr(ft_error_text(m), "is zero, on line 3"), "%s", ft_error_text(m));
        ft_clear_error(m);
        memset(bytes + count - 8, 0, 2); /* a letter of value zero */
        CHECK(!read_bytes(m, bytes, count, "tsv", o) && strstr(ft_error_text(m), "is zero, on line 3"), "%s",
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- Labels ---- */

/* The digits of a label stay as they are written. */
static void test_numbers_as_labels(void)
{
    static const char *const names[] = {"0.1000000001", "0.1000000002", "12345678901234567890",
                                        "12345678901234567891", "2", "2.0", "true"};
    ft_model *m = new_model();
    ft_text_options o;
    ft_data *data;
    int i;
    memset(&o, 0, sizeof o);
    data = read_table(m, "{\"text\":\"a\",\"label\":0.1000000001}\n{\"text\":\"b\",\"label\":0.1000000002}\n"
                      "{\"text\":\"c\",\"label\":12345678901234567890}\n{\"text\":\"d\",\"label\":2}\n"
                      "{\"text\":\"e\",\"label\": 12345678901234567891 }\n{\"text\":\"f\",\"label\":2.0}\n"
                      "{\"text\":\"g\",\"label\":true}", "jsonl", o);
    CHECK(ft_data_classes(data) == 7, "%d classes: %s", ft_data_classes(data), ft_error_text(m));
    for (i = 0; data && i < 7; ++i)
        CHECK(!strcmp(ft_data_class_name(data, i), names[i]), "class %d is %s", i, ft_data_class_name(data, i));
    ft_destroy(m);
}

static void test_too_many_classes(void)
{
    ft_model *m = new_model();
    ft_text_options o;
    memset(&o, 0, sizeof o);
    CHECK(read_table(m, "text,label\na,b c\nd,e f\na,h i\nj,k l\n", "csv", o) != NULL, "%s", ft_error_text(m));
    CHECK(strstr(said, "warning: 4 classes in 4 texts"), "%s", said);
    said[0] = 0;
    CHECK(read_table(m, "text,label\n" ROWS("", ",") "x, POS\n", "csv", o) != NULL
          && strstr(said, "the labels \"pos\" and \" POS\" are two different classes"), "%s", said);
    said[0] = 0;
    CHECK(read_table(m, "text,label\n" ROWS("", ","), "csv", o) != NULL && !strstr(said, "warning"), "%s", said);
    ft_destroy(m);
}

static void test_unlabelled(void)
{
    ft_model *m = new_model();
    ft_text_options o;
    ft_data *data;
    memset(&o, 0, sizeof o);
    o.unlabelled = true;
    data = read_table(m, "a b\nc d\ne f\n", "tsv", o);
    CHECK(ft_data_count(data) == 3 && ft_data_classes(data) == 1, "%d texts of %d classes",
          ft_data_count(data), ft_data_classes(data));
    ft_destroy(m);
}

/* ---- Several text columns ---- */

static void test_joined(void)
{
    static const char *const formats[] = {"csv", "tsv", "jsonl"};
    static const char *const tables[] = {
        "id,title,body,label\n1,Tea,it is fine,pos\n2,Soup,cold,neg\n",
        "id\ttitle\tbody\tlabel\n1\tTea\tit is fine\tpos\n2\tSoup\tcold\tneg\n",
        "{\"title\":\"Tea\",\"body\":\"it is fine\",\"label\":\"pos\"}\n{\"label\":\"neg\",\"body\":\"cold\",\"title\":\"Soup\"}\n"};
    int i;
    for (i = 0; i < 3; ++i) {
        ft_model *m = new_model();
        ft_text_options o;
        ft_data *data;
        memset(&o, 0, sizeof o);
        o.text_column = "title,body";
        data = read_table(m, tables[i], formats[i], o);
        CHECK(ft_data_count(data) == 2 && ft_data_classes(data) == 2, "%s", ft_error_text(m));
        CHECK(!strcmp(ft_data_name(data, 0), "Tea it is fine"), "'%s'", ft_data_name(data, 0));
        CHECK(strstr(said, "\"title\" and ") && strstr(said, "joined by a space"), "%s", said);
        ft_destroy(m);
    }
}

/* ---- Streams: the column that is called text, not the first one ---- */

static void test_streams(void)
{
    static const char *const tables[] = {
        "label,text\npos,bread lovely\nneg,bread awful\n", "id,text,label\n1,bread lovely,pos\n2,bread awful,neg\n",
        "TEXT,label\nbread lovely,pos\nbread awful,neg\n"};
    int i;
    for (i = 0; i < 4; ++i) {
        ft_model *m = new_model();
        ft_stream_options o;
        ft_tokenizer *t;
        memset(&o, 0, sizeof o);
        o.table = true;
        o.text_column = i == 3 ? "Text" : NULL;
        o.memory = tables[i % 3];
        o.bytes = strlen(tables[i % 3]);
        o.format = "csv";
        o.streams = 1;
        o.vocabulary_kind = FT_WORDS;
        CHECK(ft_text_streams(m, NULL, o) != NULL, "%s", ft_error_text(m));
        t = ft_get_tokenizer(m);
        CHECK(ft_tokenizer_count(t) == 6 && ft_tokenizer_find(t, "bread") >= 0
              && ft_tokenizer_find(t, "pos") < 0, "table %d: %d pieces", i, ft_tokenizer_count(t));
        CHECK(strstr(said, "2 texts; text from column"), "%s", said);
        ft_destroy(m);
    }
}

/* A text file is not cut at a zero byte. */
static void test_streams_of_zeros(void)
{
    ft_model *m = new_model();
    ft_stream_options o;
    memset(&o, 0, sizeof o);
    o.memory = "some text\0and more of it";
    o.bytes = 24;
    o.streams = 1;
    CHECK(!ft_text_streams(m, NULL, o) && strstr(ft_error_text(m), "its byte 9 is zero"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    o.header = FT_HEADER_YES;
    CHECK(!ft_text_streams(m, NULL, o) && strstr(ft_error_text(m), "header has no effect here"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* ---- The longest text: one length for training, evaluation and prediction ---- */

static float probability_of(ft_model *m, const char *text, int class_index)
{
    ft_prediction best[2];
    int count = ft_predict_text(m, text, strlen(text), best, 2);
    return count < 2 ? -1 : best[0].class_index == class_index ? best[0].probability : best[1].probability;
}

static float scored; /* how probable the guess of the only sample is */
static int guess;

static void keep_score(void *user, const ft_sample_result *result)
{
    (void)user;
    scored = result->probability;
    guess = result->guess;
}

/* A table of one text of `count` words, good ones first. */
static void long_table(char *to, int first, int count)
{
    int i;
    strcpy(to, "text,label\n");
    for (i = 0; i < count; ++i) strcat(to, i < first ? "good " : "bad ");
    strcat(to, ",neg\n");
}

static void test_max_length(void)
{
    static char table[8192], text[8192];
    const char *path = "build/max_length.safetensors";
    ft_text_options o;
    const char *const names[2] = {"neg", "pos"};
    ft_evaluate_options how;
    ft_network_options network;
    ft_model *m = new_model();
    ft_data *data;
    int lengths[3] = {0, 7, 40}, i;
    memset(&o, 0, sizeof o);
    memset(&how, 0, sizeof how);
    memset(&network, 0, sizeof network);
    data = read_table(m, "text,label\ngood good,pos\nbad bad,neg\ngood good good,pos\nbad,neg\n", "csv", o);
    network.words = ft_tokenizer_count(ft_get_tokenizer(m));
    network.classes = ft_data_classes(data);
    network.hidden = network.embedding = 8;
    network.pooling = FT_POOL_ALL;
    ft_network(m, "lstm_classifier", network);
    CHECK(ft_max_length(m) == 512, "%d", ft_max_length(m));
    how.sample = keep_score;
    o.match_classes = true;
    ft_set_class_names(m, 2, names);
    for (i = 0; i < 3; ++i) {
        int most = lengths[i] ? lengths[i] : 512;
        long_table(table, most, most + 300);
        memcpy(text, table + 11, strlen(table) - 11 - 5);
        text[strlen(table) - 11 - 5] = 0;
        said[0] = 0;
        o.longest = lengths[i];
        data = read_table(m, table, "csv", o);
        CHECK(strstr(said, "1 of the texts are longer than") != NULL, "%s", said);
        ft_evaluate(m, data, how);
        said[0] = 0;
        CHECK(probability_of(m, text, guess) == scored, "%d tokens: %g, evaluated as %g (%s)", most,
              (double)probability_of(m, text, guess), (double)scored, ft_error_text(m));
        CHECK(strstr(said, "tokens: only the first") != NULL, "%s", said);
        text[strlen(text) - 300 * 4] = 0; /* what was cut off */
        said[0] = 0;
        CHECK(probability_of(m, text, guess) == scored && !*said, "the same text, cut: %s", said);
    }
    { /* it is kept in the model file */
        ft_model *again = new_model();
        ft_load_options load;
        ft_save_options save;
        memset(&load, 0, sizeof load);
        memset(&save, 0, sizeof save);
        ft_save(m, path, save);
        ft_load(again, path, load);
        CHECK(!ft_error(m) && !ft_error(again) && ft_max_length(again) == 40, "%d: %s", ft_max_length(again),
              ft_error_text(again));
        ft_destroy(again);
        remove(path);
    }
    CHECK(ft_set_max_length(m, 0) == FT_INVALID && strstr(ft_error_text(m), "at least 1"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Pictures whose names are numbers: frames of tracks only where that is certain ---- */

/* 2 classes of 6 pictures, named by `pattern` with i / per_track and i % per_track. */
static void make_pictures(const char *pattern, int first, int per_track)
{
    char path[200];
    int c, i, b;
    mkdir("build/named", 0777);
    for (c = 0; c < 2; ++c) {
        snprintf(path, sizeof path, "build/named/%c", 'a' + c);
        mkdir(path, 0777);
        for (i = 0; i < 6; ++i) {
            FILE *file;
            int at = snprintf(path, sizeof path, "build/named/%c/", 'a' + c);
            snprintf(path + at, sizeof path - (size_t)at, pattern, first + i / per_track, i % per_track);
            file = fopen(path, "wb");
            if (!file) continue;
            fprintf(file, "P6 4 4 255\n");
            for (b = 0; b < 48; ++b) fputc(20 * i + b + 90 * c, file);
            fclose(file);
        }
    }
}

static void groups_are(const char *pattern, int first, int per_track, ft_image_folder_options o, const char *says)
{
    ft_model *m = new_model();
    ft_preprocessing p;
    memset(&p, 0, sizeof p);
    p.width = p.height = 4;
    p.channels = 3;
    p.std[0] = p.std[1] = p.std[2] = 1;
    ft_set_preprocessing(m, p);
    if (system("rm -rf build/named") != 0) CHECK(false, "build/named");
    make_pictures(pattern, first, per_track);
    CHECK(ft_data_count(ft_image_folder(m, "build/named", o)) == 12, "%s", ft_error_text(m));
    CHECK(says ? strstr(said, says) != NULL : !strstr(said, "track"), "%s: %s", pattern, said);
    ft_destroy(m);
}

static void test_tracks(void)
{
    ft_image_folder_options o, none, name;
    ft_model *m = new_model();
    ft_preprocessing p = {.width = 4, .height = 4, .channels = 1, .std = {1, 1, 1, 1}};
    memset(&o, 0, sizeof o);
    none = name = o;
    none.no_groups = true;
    name.group_by_name = true;
    groups_are("%05d_%05d.ppm", 0, 3, o, "(NNNNN_MMMMM) the 12 pictures are frames of 4 tracks");
    groups_are("%05d_%05d.ppm", 0, 3, none, NULL);
    groups_are("%04d_%04d.ppm", 2023, 6, o, "names like 2023_0000.ppm may mean a track and a frame: they are used"
               " as single pictures");
    groups_are("%05d_%05d.ppm", 7, 6, o, "names like 00007_00000.ppm may mean"); /* one track a class: its number */
    groups_are("%04d_%04d.ppm", 2023, 3, name, "(TRACK_FRAME) the 12 pictures are frames of 4 tracks");
    groups_are("img%04d_%d.ppm", 1, 1, o, NULL);
    groups_are("%08d_%06d.ppm", 20240607, 3, o, NULL); /* dates */
    groups_are("%d_%d.ppm", 1, 1, o, NULL); /* each a track of its own */
    ft_set_preprocessing(m, p);
    none.group_by_name = true;
    CHECK(!ft_image_folder(m, "build/named", none) && strstr(ft_error_text(m), "must not both be set"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    test_tracks();
    test_max_length();
    test_columns();
    test_data_like_a_header();
    test_faults();
    test_utf16();
    test_numbers_as_labels();
    test_too_many_classes();
    test_unlabelled();
    test_joined();
    test_streams();
    test_streams_of_zeros();
    return check_done("test_tables");
}
