/* test_zip.c - PyTorch files that are too large for goldens: zip64, with sizes and offsets in extra
   fields, and a pickle of 300 tensors, whose memo has numbers of four bytes. The files are written
   here in the same way as by Python's pickle and PyTorch's writer. */
#include "check.h"
#include "finetune.h"

enum { TENSORS = 300, ROWS = 2, COLUMNS = 3, MOST = 1 << 18 };

typedef struct bytes { unsigned char at[MOST]; size_t count; } bytes;

static void put(bytes *b, const void *from, size_t count)
{
    if (count > MOST - b->count) exit(1);
    memcpy(b->at + b->count, from, count);
    b->count += count;
}

static void put_number(bytes *b, uint64_t number, int count)
{
    unsigned char byte;
    for (; count > 0; --count, number >>= 8) {
        byte = (unsigned char)number;
        put(b, &byte, 1);
    }
}

static void put_text(bytes *b, const char *text) { put(b, text, strlen(text)); }

/* ---- The pickle, protocol 2 ---- */

static void unicode(bytes *b, const char *text)
{
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

/* The first use of a value puts it into the memo, later ones get it: one byte up to 255, then four. */
static void remember(bytes *b, int index)
{
    put_text(b, index < 256 ? "q" : "r");
    put_number(b, (uint64_t)index, index < 256 ? 1 : 4);
}
static void recall(bytes *b, int index)
{
    put_text(b, index < 256 ? "h" : "j");
    put_number(b, (uint64_t)index, index < 256 ? 1 : 4);
}

/* A small number by one of the opcodes that have it: BININT1, BININT2, BININT, LONG1. */
static void integer(bytes *b, int number, int which)
{
    static const char *const opcodes[] = {"K", "M", "J", "\x8a\x01"};
    static const int widths[] = {1, 2, 4, 1};
    put_text(b, opcodes[which % 4]);
    put_number(b, (uint64_t)number, widths[which % 4]);
}

static void name_of(int tensor, char text[32]) { snprintf(text, 32, "layer%d.weight", tensor); }

static void pickle(bytes *b)
{
    int memo = 0, first_key = 0, i;
    char text[32];
    b->count = 0;
    put_text(b, "\x80\x02}");
    remember(b, memo++);
    put_text(b, "(");
    for (i = 0; i < TENSORS; ++i) {
        name_of(i, text);
        unicode(b, text);
        remember(b, memo++);
        if (i == 0) put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n");
        else recall(b, 2);
        if (i == 0) remember(b, memo++); /* 2 */
        put_text(b, "((");
        if (i == 0) {
            unicode(b, "storage");
            remember(b, memo++); /* 3 */
            put_text(b, "ctorch\nFloatStorage\n");
            remember(b, memo++); /* 4 */
        } else {
            recall(b, 3);
            recall(b, 4);
        }
        snprintf(text, sizeof text, "%d", i % 2); /* two storages, of half the tensors each */
        if (i < 2) {
            unicode(b, text);
            if (i == 0) first_key = memo;
            remember(b, memo++);
        } else unicode(b, text);
        if (i == 0) {
            unicode(b, "cpu");
            remember(b, memo++);
        } else recall(b, first_key + 1);
        integer(b, TENSORS / 2 * ROWS * COLUMNS, 2);
        put_text(b, "t");
        remember(b, memo++);
        put_text(b, "Q");
        integer(b, i / 2 * ROWS * COLUMNS, 1 + i % 2); /* where it begins */
        integer(b, ROWS, i);
        integer(b, COLUMNS, i + 1);
        put_text(b, "\x86");
        remember(b, memo++);
        integer(b, COLUMNS, i + 2);
        integer(b, 1, i + 3);
        put_text(b, "\x86");
        remember(b, memo++);
        put_text(b, "\x89" "ccollections\nOrderedDict\n)R");
        remember(b, memo++);
        put_text(b, "tR");
        remember(b, memo++);
    }
    put_text(b, "u.");
}

/* ---- The archive ---- */

static void entry(bytes *zip, bytes *directory, const char *name, const void *data, size_t size,
                  bool wide)
{
    size_t local = zip->count;
    put_number(zip, 0x04034b50, 4);
    put_number(zip, 0, 14);
    put_number(zip, wide ? 0xffffffffu : size, 4);
    put_number(zip, wide ? 0xffffffffu : size, 4);
    put_number(zip, strlen(name), 2);
    put_number(zip, wide ? 20 : 0, 2);
    put_text(zip, name);
    if (wide) {
        put_number(zip, 1, 2);
        put_number(zip, 16, 2);
        put_number(zip, size, 8);
        put_number(zip, size, 8);
    }
    put(zip, data, size);
    put_number(directory, 0x02014b50, 4);
    put_number(directory, 0, 16);
    put_number(directory, wide ? 0xffffffffu : size, 4);
    put_number(directory, wide ? 0xffffffffu : size, 4);
    put_number(directory, strlen(name), 2);
    put_number(directory, wide ? 4 + 3 + 4 + 24 : 0, 2);
    put_number(directory, 0, 10);
    put_number(directory, wide ? 0xffffffffu : local, 4);
    put_text(directory, name);
    if (!wide) return;
    put_number(directory, 0x5455, 2); /* another extra field comes first: a time */
    put_number(directory, 3, 2);
    put_number(directory, 0, 3);
    put_number(directory, 1, 2);
    put_number(directory, 24, 2);
    put_number(directory, size, 8);
    put_number(directory, size, 8);
    put_number(directory, local, 8);
}

static void finish(bytes *zip, const bytes *directory, unsigned entries, bool wide)
{
    size_t begin = zip->count, end;
    put(zip, directory->at, directory->count);
    end = zip->count;
    if (wide) {
        put_number(zip, 0x06064b50, 4);
        put_number(zip, 44, 8);
        put_number(zip, 45, 4);
        put_number(zip, 0, 8);
        put_number(zip, entries, 8);
        put_number(zip, entries, 8);
        put_number(zip, directory->count, 8);
        put_number(zip, begin, 8);
        put_number(zip, 0x07064b50, 4);
        put_number(zip, 0, 4);
        put_number(zip, end, 8);
        put_number(zip, 1, 4);
    }
    put_number(zip, 0x06054b50, 4);
    put_number(zip, 0, 4);
    put_number(zip, wide ? 0xffff : entries, 2);
    put_number(zip, wide ? 0xffff : entries, 2);
    put_number(zip, wide ? 0xffffffffu : directory->count, 4);
    put_number(zip, wide ? 0xffffffffu : begin, 4);
    put_number(zip, 0, 2);
}

static float value_of(int tensor, int i) { return (float)(tensor * 10 + i) * 0.25f; }

static void archive(bytes *zip, bool wide)
{
    static bytes text, directory;
    static float storage[2][TENSORS / 2 * ROWS * COLUMNS];
    int t, i;
    zip->count = directory.count = 0;
    pickle(&text);
    for (t = 0; t < TENSORS; ++t)
        for (i = 0; i < ROWS * COLUMNS; ++i)
            storage[t % 2][t / 2 * ROWS * COLUMNS + i] = value_of(t, i);
    entry(zip, &directory, "archive/data.pkl", text.at, text.count, wide);
    entry(zip, &directory, "archive/byteorder", "little", 6, false);
    entry(zip, &directory, "archive/data/0", storage[0], sizeof storage[0], wide);
    entry(zip, &directory, "archive/data/1", storage[1], sizeof storage[1], false);
    entry(zip, &directory, "archive/version", "3\n", 2, wide);
    finish(zip, &directory, 5, wide);
}

static ft_file *open_bytes(ft_model *m, const bytes *b)
{
    ft_weights_options options = {.memory = b->at, .bytes = b->count};
    return ft_file_open(m, "archive.pt", options);
}

static void test_archive(bool wide)
{
    static bytes zip;
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_file *file;
    int t, i;
    archive(&zip, wide);
    file = open_bytes(m, &zip);
    CHECK(file && ft_file_count(file) == TENSORS, "%s: %s", wide ? "zip64" : "zip", ft_error_text(m));
    for (t = 0; file && t < TENSORS; ++t) {
        char name[32];
        float values[ROWS * COLUMNS] = {0};
        bool same = true;
        name_of(t, name);
        ft_file_read_f32(file, ft_file_find(file, name), values, ROWS * COLUMNS);
        for (i = 0; i < ROWS * COLUMNS; ++i) same &= values[i] == value_of(t, i);
        CHECK(same, "%s: %s is %g, %g ...: %s", wide ? "zip64" : "zip", name, (double)values[0],
              (double)values[1], ft_error_text(m));
    }
    if (file) ft_file_close(file);
    ft_destroy(m);
}

/* Each 64-bit number of the archive's end, and of the extra fields, beyond the file: an error. */
static void test_wrong_numbers(void)
{
    static bytes zip, changed;
    static const uint64_t wrong[] = {0x7fffffffffffffff, 0xffffffffffffffff, 1u << 30, 0x100000000};
    size_t at, end, k, places = 0;
    archive(&zip, true);
    end = zip.count - 22 - 20 - 56;
    for (at = 0; at + 8 <= zip.count; ++at) {
        /* the extra fields of the directory, the end's count, size and begin, and the locator's place */
        bool extra = at > 24 && at < end && !memcmp(zip.at + at - 4, "\1\0\30\0", 4);
        if (!extra && at != end + 32 && at != end + 48 && at != end + 56 + 8) continue;
        ++places;
        for (k = 0; k < sizeof wrong / sizeof wrong[0]; ++k) {
            size_t field, i;
            for (field = at; field < at + (extra ? 24u : 8u); field += 8) {
                ft_model *m = ft_create((ft_desc){.threads = 1});
                ft_file *file;
                changed = zip;
                for (i = 0; i < 8; ++i) changed.at[field + i] = (unsigned char)(wrong[k] >> 8 * i);
                file = open_bytes(m, &changed);
                /* the packed size is not looked at: entries are stored as they are */
                CHECK((extra && field == at + 8) || (!file && ft_error(m) == FT_FORMAT),
                      "a wrong number at %d: %s", (int)field, ft_error_text(m));
                if (file) ft_file_close(file);
                ft_destroy(m);
            }
        }
    }
    CHECK(places == 3 + 3, "%d places", (int)places);
}

/* Cut anywhere, it is refused, and nothing behind its end is read (see test_sanitizers.sh). */
static void test_cut(void)
{
    static bytes zip;
    size_t count, whole;
    archive(&zip, true);
    whole = zip.count;
    for (count = 0; count < whole; count += count + 200 > whole ? 1 : 97) {
        ft_model *m = ft_create((ft_desc){.threads = 1});
        unsigned char *copy = (unsigned char *)malloc(count + 1);
        ft_file *file;
        if (!copy) exit(1);
        memcpy(copy, zip.at, count);
        file = ft_file_open(m, "cut.pt", (ft_weights_options){.memory = copy, .bytes = count});
        CHECK(!file && ft_error(m) != FT_OK, "cut at %d", (int)count);
        if (file) ft_file_close(file);
        free(copy);
        ft_destroy(m);
    }
}

int main(void)
{
    test_archive(false);
    test_archive(true);
    test_wrong_numbers();
    test_cut();
    return check_done("test_zip");
}
