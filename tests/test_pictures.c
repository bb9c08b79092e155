/* test_pictures.c - picture files and folders as users have them: forms that decoders read
   differently, against Pillow; damaged files, small files of huge pictures, orientation; folders in
   folders, links, pipes, names that are not UTF-8. tests/golden/make_pictures.py made the files. */
#define _DEFAULT_SOURCE /* symlink, mknod */
#include "check.h"
#include "log.h"

#include "finetune.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define ROOT "build/pictures_files"
#define GOLDEN "tests/golden/pictures.safetensors"

static const char *cache; /* ft_desc.cache of mirror() */

/* A network whose output is its input, for pictures of these sides: [N, 3 * height * width]. */
static ft_model *mirror(int width, int height, size_t budget)
{
    ft_desc desc;
    ft_input_options in;
    ft_preprocessing p;
    ft_model *m;
    int c;
    memset(&desc, 0, sizeof desc);
    memset(&in, 0, sizeof in);
    memset(&p, 0, sizeof p);
    desc.threads = 2;
    desc.log = collect;
    desc.memory_budget = budget;
    desc.cache = cache;
    log_text[0] = 0;
    m = ft_create(desc);
    in.size[0] = p.channels = 3;
    in.size[1] = p.height = height;
    in.size[2] = p.width = width;
    for (c = 0; c < 3; ++c) p.std[c] = 1;
    ft_set_output(m, ft_flatten(m, "flat", ft_input(m, "input", in)));
    ft_set_preprocessing(m, p);
    return m;
}

static unsigned char *tensor(ft_file *file, const char *name, size_t *bytes, ft_shape *shape)
{
    int index = ft_file_find(file, name);
    ft_tensor_info info;
    unsigned char *to;
    memset(&info, 0, sizeof info);
    if (index >= 0) info = ft_file_tensor(file, index);
    to = (unsigned char *)malloc((size_t)info.bytes + 1);
    CHECK(index >= 0 && ft_file_read(file, index, to, (size_t)info.bytes) == FT_OK, "%s", name);
    *bytes = (size_t)info.bytes;
    if (shape) *shape = info.shape;
    return to;
}

/* The input that the model made of the picture, as samples again: [3, height, width]. */
static int worst_sample(ft_model *m, const unsigned char *want, int width, int height)
{
    size_t count = 3 * (size_t)width * (size_t)height, i, pixels = count / 3;
    float *got = (float *)malloc(count * sizeof *got);
    int worst = 0;
    if (ft_get(m, ft_find(m, "input"), got, count) != FT_OK) worst = 256;
    for (i = 0; i < count && worst < 256; ++i) {
        int sample = (int)floor(255 * (double)got[i] + 0.5);
        int off = abs(sample - want[3 * (i % pixels) + i / pixels]);
        if (off > worst) worst = off;
    }
    free(got);
    return worst;
}

static void check_picture(ft_file *file, const char *name)
{
    size_t bytes, pixel_bytes;
    char other[96];
    ft_prediction best;
    ft_shape shape;
    unsigned char *picture = tensor(file, name, &bytes, NULL), *want;
    ft_model *m;
    int worst, tolerance = strstr(name, ".jpg") ? 3 : 0; /* decoders round JPEG's cosines apart */
    snprintf(other, sizeof other, "pixels/%s", name + 5);
    want = tensor(file, other, &pixel_bytes, &shape);
    m = mirror(shape.size[1], shape.size[0], 0);
    CHECK(ft_predict_memory(m, picture, bytes, &best, 1) == 1, "%s: %s", name, ft_error_text(m));
    worst = worst_sample(m, want, shape.size[1], shape.size[0]);
    CHECK(worst <= tolerance, "%s: off by %d from Pillow's", name, worst);
    ft_destroy(m);
    free(want);
    free(picture);
}

static void check_refused(ft_file *file, const char *name)
{
    size_t bytes;
    ft_prediction best;
    unsigned char *picture = tensor(file, name, &bytes, NULL);
    ft_model *m = mirror(11, 7, 0);
    CHECK(ft_predict_memory(m, picture, bytes, &best, 1) == 0 && ft_error(m) == FT_FORMAT
          && strstr(ft_error_text(m), "cannot be read as a picture: "), "%s: status %d, %s", name,
          (int)ft_error(m), ft_error_text(m));
    ft_destroy(m);
    free(picture);
}

/* ---- Progressive JPEG whose scans are cut: every scan refines earlier ones, so a decoder may miss
   nothing but sharpness ---- */

/* The index after a scan's codes: of the next marker that is no restart, or `bytes`. */
static size_t scan_end(const unsigned char *jpeg, size_t bytes, size_t at)
{
    while (at + 1 < bytes && (jpeg[at] != 0xFF || jpeg[at + 1] == 0
                              || (jpeg[at + 1] >= 0xD0 && jpeg[at + 1] <= 0xD7))) ++at;
    return at;
}

/* Leaves `left` bytes of the codes in [start, end) and the rest of the file, or, if `close` is true,
   only an end marker after them. Returns whether prediction refuses it. */
static bool cut_is_refused(const unsigned char *jpeg, size_t bytes, size_t start, size_t end,
                           size_t left, bool close)
{
    unsigned char *cut = (unsigned char *)calloc(bytes + 2, 1);
    size_t after = close ? 2 : bytes - end;
    ft_prediction best;
    ft_model *m = mirror(11, 7, 0);
    bool refused;
    memcpy(cut, jpeg, start + left);
    if (close) memcpy(cut + start + left, "\xFF\xD9", 2);
    else memcpy(cut + start + left, jpeg + end, after);
    refused = ft_predict_memory(m, cut, start + left + after, &best, 1) == 0
        && strstr(ft_error_text(m), "damaged: ");
    ft_destroy(m);
    free(cut);
    return refused;
}

static void test_cut_scans(ft_file *file)
{
    size_t bytes, at = 2, left;
    unsigned char *jpeg = tensor(file, "file/progressive.jpg", &bytes, NULL);
    int refining = 0;
    while (at + 4 < bytes && jpeg[at + 1] != 0xD9) {
        size_t length = 2 + ((size_t)jpeg[at + 2] << 8 | jpeg[at + 3]), start = at + length, end;
        const unsigned char *range = jpeg + start - 3; /* of a scan: first, last, high and low */
        bool scan = jpeg[at + 1] == 0xDA;
        end = scan ? scan_end(jpeg, bytes, start) : start;
        for (left = 0; scan && left + 1 < end - start; ++left) {
            CHECK(cut_is_refused(jpeg, bytes, start, end, left, false)
                  && cut_is_refused(jpeg, bytes, start, end, left, true),
                  "the scan of %d to %d, bits %02X, cut to %d of %d bytes is accepted", range[0],
                  range[1], (unsigned)range[2], (int)left, (int)(end - start));
            if (left == 0 && range[0] > 0 && range[2] >> 4) ++refining;
        }
        at = end;
    }
    CHECK(refining == 4, "%d scans refine AC coefficients", refining);
    free(jpeg);
}

/* Components that are named R, G and B, while JFIF's marker says that they are Y, Cb and Cr; of the
   names only all three count. */
static void test_named_colours(ft_file *file)
{
    static const char names[] = "RGB";
    int wrong, i;
    for (wrong = -1; wrong < 3; ++wrong) {
        size_t bytes, at = 2;
        unsigned char *jpeg = tensor(file, "file/progressive.jpg", &bytes, NULL);
        ft_prediction best;
        ft_model *m = mirror(11, 7, 0);
        int frames = 0, scans = 0;
        while (at + 4 < bytes && jpeg[at + 1] != 0xD9) {
            size_t length = 2 + ((size_t)jpeg[at + 2] << 8 | jpeg[at + 3]);
            bool scan = jpeg[at + 1] == 0xDA, frame = jpeg[at + 1] == 0xC2;
            for (i = 0; frame && i < 3; ++i)
                if (i != wrong) jpeg[at + 10 + 3 * (size_t)i] = (unsigned char)names[i];
            for (i = 0; scan && i < jpeg[at + 4]; ++i) {
                unsigned char *name = jpeg + at + 5 + 2 * i;
                if (*name >= 1 && *name <= 3 && *name - 1 != wrong) *name = (unsigned char)names[*name - 1];
            }
            frames += frame;
            scans += scan;
            at += length;
            if (scan) at = scan_end(jpeg, bytes, at);
        }
        CHECK(frames == 1 && scans > 1, "%d frames, %d scans", frames, scans);
        i = ft_predict_memory(m, jpeg, bytes, &best, 1);
        CHECK(wrong < 0 ? i == 0 && strstr(ft_error_text(m), "named R, G and B") : i == 1,
              "name %d is another: %s", wrong, ft_error_text(m));
        ft_destroy(m);
        free(jpeg);
    }
}

static void test_files(ft_file *file)
{
    int t, pictures = 0, refused = 0;
    for (t = 0; t < ft_file_count(file); ++t) {
        const char *name = ft_file_tensor(file, t).name;
        if (!strncmp(name, "file/", 5)) {
            check_picture(file, name);
            ++pictures;
        } else if (!strncmp(name, "refused/", 8)) {
            check_refused(file, name);
            ++refused;
        }
    }
    CHECK(pictures == 79 && refused == 22, "%d and %d files are in " GOLDEN, pictures, refused);
}

/* ---- Memory ---- */

/* 3000 x 3000 pixels of one bit. */
static unsigned char *large_bmp(size_t *bytes)
{
    static const unsigned char header[] = {
        'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 62, 0, 0, 0, 40, 0, 0, 0, 0xB8, 11, 0, 0, 0xB8, 11, 0, 0,
        1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 255, 255, 255, 0};
    unsigned char *to;
    *bytes = sizeof header + 3000 * 376;
    to = (unsigned char *)calloc(1, *bytes);
    memcpy(to, header, sizeof header);
    return to;
}

static void write_file(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, count, file) == count && fclose(file) == 0, "%s", path);
}

static void write_ppm(const char *path, int value)
{
    unsigned char bytes[11 + 12];
    memcpy(bytes, "P6\n2 2\n255\n", 11);
    memset(bytes + 11, value, 12);
    write_file(path, bytes, sizeof bytes);
}

static void make_folder(const char *path)
{
    CHECK(mkdir(path, 0777) == 0, "%s", path);
}

/* What a small file makes a decoder allocate counts against the budget, before it is allocated. */
static void test_budget(void)
{
    ft_prediction best;
    size_t bytes;
    unsigned char *bmp = large_bmp(&bytes);
    ft_model *m = mirror(4, 4, (size_t)16 << 20);
    ft_data *data;
    CHECK(ft_predict_memory(m, bmp, bytes, &best, 1) == 0 && ft_error(m) == FT_MEMORY
          && strstr(ft_error_text(m), "the picture: decoding 3000 x 3000 pixels"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = mirror(4, 4, (size_t)160 << 20);
    CHECK(ft_predict_memory(m, bmp, bytes, &best, 1) == 1, "%s", ft_error_text(m));
    ft_destroy(m);
    make_folder(ROOT "/large");
    make_folder(ROOT "/large/a");
    make_folder(ROOT "/large/b");
    write_ppm(ROOT "/large/a/1.ppm", 1);
    write_ppm(ROOT "/large/b/1.ppm", 2);
    write_file(ROOT "/large/b/large.bmp", bmp, bytes);
    m = mirror(4, 4, (size_t)16 << 20);
    data = ft_image_folder(m, ROOT "/large", (ft_image_folder_options){0});
    CHECK(ft_data_count(data) == 2 && ft_data_skipped(data) == 1
          && strstr(log_text, "large.bmp: skipped: decoding its pixels needs more memory"),
          "%s\n%s", ft_error_text(m), log_text);
    ft_destroy(m);
    free(bmp);
}

/* ---- Folders ---- */

/* Nothing in a folder is passed over without a line that counts and names it. */
static void test_folders(void)
{
    static const char *const lines[] = {
        ROOT "/tree/a: skipped 2 folders inside this class, with their pictures: inner and"
        " others\n",
        ROOT "/tree/a: skipped 2 files of other kinds: notes.txt and others\n",
        ROOT "/tree: skipped 1 picture outside the class folders: loose.ppm\n",
        ROOT "/tree: skipped 1 file outside the class folders: readme\n",
        "gone.ppm: skipped: cannot be opened (not found, no permission, or not a regular file)\n",
        "pipe.ppm: skipped: cannot be opened (not found, no permission, or not a regular file)\n",
        "closed.ppm: skipped: ",
        "tree/a: skipped 1 hidden file: .x.ppm\n", "tree/b: skipped 2 hidden files: ._",
        "tree: 3 of them are rotated or mirrored, as their EXIF orientation says"};
    ft_model *m = mirror(4, 4, 0);
    ft_file *file = ft_file_open(m, GOLDEN, (ft_weights_options){0});
    ft_data *data;
    size_t i, bytes;
    make_folder(ROOT "/tree");
    make_folder(ROOT "/tree/a");
    make_folder(ROOT "/tree/a/inner");
    make_folder(ROOT "/tree/b");
    write_ppm(ROOT "/tree/a/1.ppm", 10);
    write_ppm(ROOT "/tree/a/inner/2.ppm", 20);
    write_ppm(ROOT "/tree/b/1.ppm", 30);
    write_ppm(ROOT "/tree/b/closed.ppm", 30);
    write_ppm(ROOT "/tree/loose.ppm", 40);
    write_file(ROOT "/tree/readme", "", 0);
    write_file(ROOT "/tree/a/notes.txt", "x", 1);
    write_file(ROOT "/tree/a/.DS_Store", "x", 1);
    write_ppm(ROOT "/tree/a/.x.ppm", 50);
    write_file(ROOT "/tree/b/._1.ppm", "x", 1);
    write_file(ROOT "/tree/b/._6.JPG", "x", 1);
    for (i = 6; i < 9; ++i) {
        char name[64], path[96];
        unsigned char *jpeg;
        snprintf(name, sizeof name, "file/orientation%d.jpg", (int)i);
        snprintf(path, sizeof path, ROOT "/tree/b/%s", name + 5);
        jpeg = tensor(file, name, &bytes, NULL);
        write_file(path, jpeg, bytes);
        free(jpeg);
    }
    ft_file_close(file);
    CHECK(symlink("1.ppm", ROOT "/tree/a/link.ppm") == 0
          && symlink("../b", ROOT "/tree/a/other_class") == 0
          && symlink("nowhere", ROOT "/tree/a/gone.ppm") == 0
          && symlink("a", ROOT "/tree/c") == 0
          && mkfifo(ROOT "/tree/b/pipe.ppm", 0666) == 0
          && mkfifo(ROOT "/tree/a/pipe", 0666) == 0, "links and pipes");
    chmod(ROOT "/tree/b/closed.ppm", 0);
    data = ft_image_folder(m, ROOT "/tree", (ft_image_folder_options){0});
    CHECK(data != NULL, "%s", ft_error_text(m));
    /* a: 1.ppm, link.ppm; b: 1.ppm and three JPEG; c, a link, has what a has. */
    /* The administrator can read closed.ppm too. */
    CHECK(ft_data_count(data) == 8 + (geteuid() == 0)
          && ft_data_skipped(data) == 4 - (geteuid() == 0), "%d pictures, %d left out:\n%s",
          ft_data_count(data), ft_data_skipped(data), log_text);
    for (i = 0; i < sizeof lines / sizeof *lines; ++i)
        if (!strstr(lines[i], "closed") || geteuid() != 0)
            CHECK(strstr(log_text, lines[i]) != NULL, "no \"%s\" in:\n%s", lines[i], log_text);
    ft_destroy(m);
}

/* The number that the system gives the only file in the cache: a file written again has another. */
static unsigned long kept_file(void)
{
    DIR *folder = opendir(cache);
    struct dirent *entry;
    unsigned long number = 0;
    while (folder && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.') number += (unsigned long)entry->d_ino;
    if (folder) closedir(folder);
    return number;
}

/* Pictures that could be read are remembered, every one: the second time nothing is written. */
static void test_remembered(void)
{
    unsigned long first = 0;
    int i;
    cache = ROOT "/kept";
    make_folder(cache);
    make_folder(ROOT "/two");
    make_folder(ROOT "/two/a");
    make_folder(ROOT "/two/b");
    write_ppm(ROOT "/two/a/1.ppm", 10);
    write_ppm(ROOT "/two/b/1.ppm", 30);
    for (i = 0; i < 2; ++i) {
        ft_model *m = mirror(4, 4, 0);
        ft_data *data = ft_image_folder(m, ROOT "/two", (ft_image_folder_options){0});
        CHECK(data && ft_data_count(data) == 2, "%s", ft_error_text(m));
        ft_destroy(m);
        if (i == 0) first = kept_file();
    }
    CHECK(first != 0 && kept_file() == first, "what is known is written again");
    cache = NULL;
}

static void test_text_folders(void)
{
    ft_model *m;
    ft_data *data;
    make_folder(ROOT "/texts");
    make_folder(ROOT "/texts/neg");
    make_folder(ROOT "/texts/pos");
    make_folder(ROOT "/texts/pos/more");
    write_file(ROOT "/texts/neg/1.txt", "bad", 3);
    write_file(ROOT "/texts/pos/1.txt", "nice", 4);
    write_file(ROOT "/texts/pos/more/2.txt", "nice", 4);
    write_file(ROOT "/texts/readme", "x", 1);
    write_file(ROOT "/texts/neg/.2.txt", "bad", 3);
    write_file(ROOT "/texts/neg/.DS_Store", "x", 1);
    m = mirror(1, 1, 0);
    data = ft_texts(m, ROOT "/texts", (ft_text_options){0});
    CHECK(ft_data_count(data) == 2
          && strstr(log_text, ROOT "/texts/pos: skipped 1 folder inside this class, with its"
                    " texts: more\n")
          && strstr(log_text, ROOT "/texts/neg: skipped 1 hidden file: .2.txt\n")
          && strstr(log_text, ROOT "/texts: skipped 1 file outside the class folders: readme\n"), "%s\n%s", ft_error_text(m), log_text);
    ft_destroy(m);
    make_folder(ROOT "/texts/unsure");
    m = mirror(1, 1, 0);
    data = ft_texts(m, ROOT "/texts", (ft_text_options){0});
    CHECK(!data && strstr(ft_error_text(m), "/texts/unsure: this class has no texts"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* ---- Pipes and devices: no reader opens them, so none waits and nothing in them is lost ---- */
typedef void reader(ft_model *m, const char *path);

static void read_model(ft_model *m, const char *path) { ft_load(m, path, (ft_load_options){0}); }
static void read_weights(ft_model *m, const char *path)
{
    ft_load_weights(m, path, (ft_weights_options){0});
}
static void read_tensors(ft_model *m, const char *path)
{
    ft_file_open(m, path, (ft_weights_options){0});
}
static void read_tokenizer(ft_model *m, const char *path)
{
    ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
}
static void read_texts(ft_model *m, const char *path) { ft_texts(m, path, (ft_text_options){0}); }
static void read_streams(ft_model *m, const char *path)
{
    ft_text_streams(m, path, (ft_stream_options){0});
}
static void read_picture(ft_model *m, const char *path)
{
    ft_prediction best;
    ft_predict_file(m, path, &best, 1);
}
static void read_folder(ft_model *m, const char *path)
{
    ft_image_folder(m, path, (ft_image_folder_options){0});
}

static void test_pipes(void)
{
    static reader *const readers[] = {read_model, read_weights, read_tensors, read_tokenizer,
                                      read_texts, read_streams, read_picture, read_folder};
    static const char *const paths[] = {ROOT "/pipe", "/dev/zero"};
    int pipe_end, got;
    char back[8];
    size_t r, p;
    CHECK(mkfifo(ROOT "/pipe", 0666) == 0, "a pipe");
    pipe_end = open(ROOT "/pipe", O_RDWR | O_NONBLOCK);
    CHECK(pipe_end >= 0 && write(pipe_end, "stays", 5) == 5, "a pipe with something in it");
    for (r = 0; r < sizeof readers / sizeof *readers; ++r)
        for (p = 0; p < sizeof paths / sizeof *paths; ++p) {
            ft_model *m = r == 0 ? ft_create((ft_desc){0}) : mirror(4, 4, 0);
            readers[r](m, paths[p]);
            CHECK(ft_error(m) == FT_IO && strstr(ft_error_text(m), paths[p]), "%d of %s: %d, %s",
                  (int)r, paths[p], (int)ft_error(m), ft_error_text(m));
            ft_destroy(m);
        }
    got = (int)read(pipe_end, back, sizeof back);
    CHECK(got == 5, "%d of the 5 bytes are still in the pipe", got);
    close(pipe_end);
}

/* ---- Names ---- */

/* Names that are not UTF-8 or that a terminal would obey: in every line they are escaped, and a
   model file stays UTF-8. */
static void test_names(void)
{
    static const char escapes[] = "b\x1b[31m", latin[] = "caf\xe9", table[] = ROOT "/names.tsv";
    char path[200];
    ft_file *file;
    const char *metadata;
    ft_model *m = mirror(2, 2, 0);
    ft_data *data;
    const char *names[12] = {latin, escapes, "a\xe2\x80\xae" "b", "", "\xf0\x9f\x98\x80", "5", "6",
                             "7", "8", "9", "10", "\xed\xa0\x80"};
    make_folder(ROOT "/names");
    snprintf(path, sizeof path, ROOT "/names/%s", latin);
    make_folder(path);
    snprintf(path, sizeof path, ROOT "/names/%s/1.ppm", latin);
    write_ppm(path, 1);
    snprintf(path, sizeof path, ROOT "/names/%s", escapes);
    make_folder(path);
    snprintf(path, sizeof path, ROOT "/names/%s/\x1b]0;x\x07.ppm", escapes);
    write_file(path, "P6", 2);
    snprintf(path, sizeof path, ROOT "/names/%s/2.ppm", escapes);
    write_ppm(path, 2);
    data = ft_image_folder(m, ROOT "/names", (ft_image_folder_options){0});
    CHECK(ft_data_count(data) == 2 && ft_data_skipped(data) == 1, "%s", ft_error_text(m));
    CHECK(data && !strcmp(ft_data_class_name(data, 0), escapes)
          && !strcmp(ft_data_class_name(data, 1), "caf\\xE9"), "names of classes");
    CHECK(!strpbrk(log_text, "\x1b\x07\xe9") && strstr(log_text, "names/b\\x1B[31m/\\x1B]0;x\\x07.ppm")
          && strstr(log_text, "caf\\xE9: the name of this folder is not UTF-8"), "%s", log_text);
    ft_set_class_names(m, 12, names);
    CHECK(ft_save(m, ROOT "/names.safetensors", (ft_save_options){0}) == FT_OK, "%s",
          ft_error_text(m));
    ft_destroy(m);
    m = mirror(1, 1, 0);
    file = ft_file_open(m, ROOT "/names.safetensors", (ft_weights_options){0});
    metadata = file ? ft_file_metadata(file, "finetune") : NULL;
    CHECK(metadata && strstr(metadata, "\"caf\\\\xE9\",\"b\\u001b[31m\",\"a\xe2\x80\xae" "b\",\"\","
                             "\"\xf0\x9f\x98\x80\"") && strstr(metadata, "\"\\\\xED\\\\xA0\\\\x80\""),
          "%.400s", metadata ? metadata : ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
    m = ft_create((ft_desc){0});
    ft_load(m, "no\x1b[2J\n\tsuch\xff.pth", (ft_load_options){0});
    CHECK(strstr(ft_error_text(m), "no\\x1B[2J\\x0A\tsuch\\xFF.pth") != NULL, "%s", ft_error_text(m));
    ft_destroy(m);
    write_file(table, "good\tcaf\xe9\nbad\tx\n", 16);
    m = mirror(1, 1, 0);
    data = ft_texts(m, table, (ft_text_options){0});
    CHECK(data == NULL || !strcmp(ft_data_class_name(data, 0), "caf\\xE9"), "%s",
          data ? ft_data_class_name(data, 0) : "");
    ft_destroy(m);
}

/* ---- Time ---- */

/* Of very many classes each is found at once among those of other data: by looking through them
   this would take minutes. */
static void test_many_classes(void)
{
    enum { CLASSES = 60000 };
    char *table = (char *)malloc(CLASSES * 16), *at = table;
    ft_text_options o;
    ft_model *m = mirror(1, 1, 0);
    ft_data *first, *second;
    int i;
    for (i = 0; i < CLASSES; ++i) at += sprintf(at, "w\tc%d\n", i);
    memset(&o, 0, sizeof o);
    o.memory = table;
    o.bytes = (size_t)(at - table);
    o.text_column = "1";
    o.label_column = "2";
    first = ft_texts(m, NULL, o);
    o.classes_of = first;
    second = ft_texts(m, NULL, o);
    CHECK(ft_data_classes(second) == CLASSES && ft_data_label(second, 7) == ft_data_label(first, 7),
          "%s", ft_error_text(m));
    ft_destroy(m);
    free(table);
}

int main(void)
{
    ft_weights_options options;
    ft_model *m;
    ft_file *file;
    alarm(120); /* what waits for ever fails */
    CHECK(system("chmod -R u+rw " ROOT " 2>/dev/null; rm -rf " ROOT "; mkdir -p " ROOT) == 0, ROOT);
    m = mirror(1, 1, 0);
    memset(&options, 0, sizeof options);
    file = ft_file_open(m, GOLDEN, options);
    CHECK(file != NULL, "%s", ft_error_text(m));
    if (file) {
        test_files(file);
        test_cut_scans(file);
        test_named_colours(file);
        ft_file_close(file);
    }
    ft_destroy(m);
    test_budget();
    test_folders();
    test_remembered();
    test_text_folders();
    test_pipes();
    test_names();
    test_many_classes();
    return check_done("test_pictures");
}
