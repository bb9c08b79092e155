/* test_data.c - pictures and their sources: resizing against Pillow, preprocessing against
   torchvision, decoding and damaged files, folders, the split, augmentation, the loader. */
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#include "check.h"
#include "log.h"

#include "internals.h"
#include "goldens.h"

#define ROOT "build/data_files"
#define KAEFER "k\xC3\xA4" "fer" /* UTF-8 */
#define UE "\xC3\xBC"
#define GOLDEN "tests/golden/resize.safetensors"

/* ---- Helpers ---- */

static int occurrences(const char *text, const char *word)
{
    int count = 0;
    for (text = strstr(text, word); text; text = strstr(text + 1, word)) ++count;
    return count;
}

static ft_preprocessing preprocessing(int channels, int width, int height, int resize)
{
    static const float mean[3] = {.485f, .456f, .406f}, std[3] = {.229f, .224f, .225f};
    ft_preprocessing p;
    int c;
    memset(&p, 0, sizeof p);
    p.channels = channels;
    p.width = width;
    p.height = height;
    p.resize = resize;
    for (c = 0; c < 3; ++c) {
        p.mean[c] = channels == 3 ? mean[c] : .1307f;
        p.std[c] = channels == 3 ? std[c] : .3081f;
    }
    return p;
}

static ft_model *new_model(int threads, uint64_t seed, ft_preprocessing p)
{
    ft_desc desc;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    desc.threads = threads;
    desc.seed = seed;
    desc.log = collect;
    log_text[0] = 0;
    m = ft_create(desc);
    ft_set_preprocessing(m, p);
    return m;
}

static ft_image_folder_options folder_options(void)
{
    ft_image_folder_options o;
    memset(&o, 0, sizeof o);
    return o;
}

static void make_folder(const char *path)
{
    char command[600];
    snprintf(command, sizeof command, "mkdir -p '%s'", path);
    CHECK(system(command) == 0, "%s", command);
}

static void write_bytes(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, count, file) == count, "%s", path);
    if (file) fclose(file);
}

static unsigned noise_state = 1;

static unsigned noise(void)
{
    noise_state = noise_state * 1664525u + 1013904223u;
    return noise_state >> 16;
}

/* A PPM of noise; returns how many bytes it has. */
static size_t make_ppm(unsigned char *to, int width, int height, unsigned seed)
{
    size_t at = (size_t)sprintf((char *)to, "P6\n# noise\n%d %d\n255\n", width, height), i;
    noise_state = seed;
    for (i = 0; i < (size_t)width * (size_t)height * 3; ++i) to[at++] = (unsigned char)noise();
    return at;
}

static void write_ppm(const char *path, int width, int height, unsigned seed)
{
    static unsigned char bytes[1 << 18];
    write_bytes(path, bytes, make_ppm(bytes, width, height, seed));
}

/* The tensor of one sample by the source itself. */
static bool get_sample(const ft_data *data, const ft_preprocessing *p, int index, int view,
                       float *to, int32_t *label)
{
    ft_slot slots[2];
    memset(slots, 0, sizeof slots);
    slots[0].name = "input";
    slots[0].type = FT_F32;
    slots[0].shape.rank = 3;
    slots[0].shape.size[0] = p->channels;
    slots[0].shape.size[1] = p->height;
    slots[0].shape.size[2] = p->width;
    slots[0].values = to;
    slots[1].name = "labels";
    slots[1].type = FT_I32;
    slots[1].values = label;
    return data->source.get(data->source.user, index, view, slots, 2);
}

/* ---- Golden files ---- */

static unsigned char *read_tensor(ft_file *file, int index, ft_tensor_info *info)
{
    unsigned char *bytes;
    *info = ft_file_tensor(file, index);
    bytes = (unsigned char *)malloc((size_t)info->bytes + 1);
    CHECK(ft_file_read(file, index, bytes, (size_t)info->bytes) == FT_OK, "%s", info->name);
    return bytes;
}

static unsigned char *read_named(ft_file *file, const char *name, ft_tensor_info *info)
{
    int index = ft_file_find(file, name);
    memset(info, 0, sizeof *info);
    CHECK(index >= 0, "%s is not in " GOLDEN, name);
    return index < 0 ? NULL : read_tensor(file, index, info);
}

static void test_resize(ft_file *file)
{
    int t, checked = 0;
    for (t = 0; t < ft_file_count(file); ++t) {
        ft_tensor_info to_info, from_info;
        char name[64];
        int width, height, channels, to_width, to_height;
        unsigned char *from, *want, *got;
        size_t count, row, bytes, i, wrong = 0;
        void *workspace;
        const char *title = ft_file_tensor(file, t).name, *rest = strchr(title, '/');
        ft__filter filter = strncmp(title, "bicubic/", 8) ? FT__BILINEAR : FT__BICUBIC;
        if (strncmp(title, "bicubic/", 8) && strncmp(title, "bilinear/", 9)) continue;
        if (sscanf(rest, "/%dx%dx%d/%dx%d", &width, &height, &channels, &to_width, &to_height) != 5)
            continue;
        snprintf(name, sizeof name, "in/%dx%dx%d", width, height, channels);
        from = read_named(file, name, &from_info);
        want = read_tensor(file, t, &to_info);
        count = (size_t)to_info.bytes;
        bytes = ft__resize_workspace(channels, width, height, to_width, to_height, filter);
        workspace = malloc(bytes); /* exactly as many: a sanitizer sees one more */
        got = (unsigned char *)malloc(count + 8);
        memset(got, 0xA5, count + 8);
        ft__resize(from, (size_t)width * (size_t)channels, width, height, channels, got, to_width,
                   to_height, filter, workspace);
        for (i = 0; i < count; ++i) wrong += got[i] != want[i];
        CHECK(wrong == 0, "%s: %zu of %zu samples differ", title, wrong, count);
        for (i = 0; i < 8; ++i) CHECK(got[count + i] == 0xA5, "%s: wrote past its end", title);
        /* The same as a part of a wider picture. */
        row = (size_t)width * (size_t)channels + 5;
        free(workspace);
        workspace = malloc(bytes);
        memset(workspace, 0xFF, bytes);
        {
            unsigned char *wide = (unsigned char *)calloc(row * (size_t)height + 1, 1);
            for (i = 0; i < (size_t)height; ++i)
                memcpy(wide + i * row, from + i * (row - 5), row - 5);
            ft__resize(wide, row, width, height, channels, got, to_width, to_height, filter,
                       workspace);
            free(wide);
        }
        CHECK(memcmp(got, want, count) == 0, "%s, from a wider picture", title);
        free(workspace);
        free(got);
        free(want);
        free(from);
        ++checked;
    }
    CHECK(checked > 150, "only %d resizes were in " GOLDEN, checked);
}

static void test_preprocessing(ft_file *file)
{
    ft_desc desc;
    ft_model *m;
    int t, checked = 0;
    memset(&desc, 0, sizeof desc);
    m = ft_create(desc);
    for (t = 0; t < ft_file_count(file); ++t) {
        const char *title = ft_file_tensor(file, t).name, *end;
        char name[96];
        int c, w, h, r, number;
        ft_tensor_info in_info, out_info;
        ft_preprocessing p;
        unsigned char *in, *out;
        float *got, want;
        size_t count, i;
        double worst = 0;
        if (sscanf(title, "preprocess/c%d_w%d_h%d_r%d/%d", &c, &w, &h, &r, &number) != 5) continue;
        end = strrchr(title, '/');
        if (strcmp(end, "/out")) continue;
        snprintf(name, sizeof name, "%.*s/in", (int)(end - title), title);
        in = read_named(file, name, &in_info);
        out = read_tensor(file, t, &out_info);
        p = preprocessing(c, w, h, r);
        count = (size_t)c * (size_t)w * (size_t)h;
        CHECK(out_info.bytes == count * sizeof(float), "%s", title);
        got = (float *)malloc(count * sizeof *got);
        CHECK(ft__pixels_to_input(&m->context, &p, in, in_info.shape.size[1],
                                  in_info.shape.size[0], in_info.shape.size[2], title, got),
              "%s: %s", title, ft_error_text(m));
        for (i = 0; i < count; ++i) {
            memcpy(&want, out + i * sizeof want, sizeof want);
            if (!(fabs((double)got[i] - (double)want) <= worst))
                worst = fabs((double)got[i] - (double)want);
        }
        CHECK(worst <= 1e-6, "%s: off by %g", title, worst);
        free(got);
        free(out);
        free(in);
        ++checked;
    }
    CHECK(checked == 15, "%d preprocessings were in " GOLDEN, checked);
    ft_destroy(m);
}

static void check_decoded(const char *name, const ft__picture *got, const unsigned char *want,
                          size_t count, int tolerance)
{
    size_t i;
    int worst = 0;
    CHECK((size_t)got->width * (size_t)got->height * (size_t)got->channels == count, "%s", name);
    for (i = 0; i < count; ++i) {
        int off = abs((int)got->pixels[i] - (int)want[i]);
        if (off > worst) worst = off;
    }
    CHECK(worst <= tolerance, "%s: off by %d", name, worst);
}

/* Every beginning of the file: no picture, or (when it lacks only its last mark) the same. */
static void check_beginnings(const char *name, const unsigned char *bytes, size_t count,
                             const ft__picture *whole)
{
    ft__picture got;
    size_t length, all = (size_t)whole->width * (size_t)whole->height * (size_t)whole->channels;
    for (length = 0; length < count; ++length) {
        unsigned char *part = (unsigned char *)malloc(length + (length == 0));
        size_t mark = strstr(name, ".png") ? 11 : strstr(name, ".gif") ? 1 : 0;
        const char *fault;
        memcpy(part, bytes, length);
        fault = ft__decode(part, length, whole->channels, &got);
        CHECK(fault || (length + mark >= count && !memcmp(got.pixels, whole->pixels, all)),
              "%s: %zu of its %zu bytes make a picture", name, length, count);
        if (!fault) ft__picture_free(&got);
        free(part);
    }
}

/* Damaged files must give a picture or a reason, and touch nothing that is not theirs. */
static void check_flips(const unsigned char *bytes, size_t count)
{
    int round;
    for (round = 0; round < 300; ++round) {
        unsigned char *copy = (unsigned char *)malloc(count);
        ft__picture got;
        const char *fault;
        int flips = 1 + (int)(noise() % 3);
        memcpy(copy, bytes, count);
        while (flips-- > 0) copy[noise() % count] ^= (unsigned char)(1u << noise() % 8);
        fault = ft__decode(copy, count, round & 1 ? 3 : 1, &got);
        CHECK(fault ? *fault != 0 : got.pixels && got.width > 0 && got.height > 0,
              "round %d: neither a picture nor a reason: %s", round, fault ? fault : "no reason");
        if (!fault) ft__picture_free(&got);
        free(copy);
    }
}

static void test_decoding(ft_file *file)
{
    int t, checked = 0;
    for (t = 0; t < ft_file_count(file); ++t) {
        ft_tensor_info info;
        char other[96];
        const char *title = ft_file_tensor(file, t).name;
        unsigned char *bytes, *want;
        ft__picture got;
        const char *fault;
        /* JPEG's inverse cosine transform is not the same in every decoder. */
        int tolerance = strstr(title, ".jpg") ? 3 : 0;
        if (strncmp(title, "file/", 5)) continue;
        bytes = read_tensor(file, t, &info);
        fault = ft__decode(bytes, (size_t)info.bytes, 3, &got);
        CHECK(fault == NULL, "%s: %s", title, fault);
        if (!fault) {
            ft_tensor_info want_info;
            snprintf(other, sizeof other, "pixels/%s", title + 5);
            want = read_named(file, other, &want_info);
            check_decoded(title, &got, want, (size_t)want_info.bytes, tolerance);
            free(want);
            check_beginnings(title, bytes, (size_t)info.bytes, &got);
            ft__picture_free(&got);
        }
        fault = ft__decode(bytes, (size_t)info.bytes, 1, &got);
        CHECK(fault == NULL, "%s: %s", title, fault);
        if (!fault) {
            ft_tensor_info want_info;
            snprintf(other, sizeof other, "luma/%s", title + 5);
            want = read_named(file, other, &want_info);
            check_decoded(other, &got, want, (size_t)want_info.bytes, tolerance);
            free(want);
            ft__picture_free(&got);
        }
        noise_state = (unsigned)t;
        check_flips(bytes, (size_t)info.bytes);
        free(bytes);
        ++checked;
    }
    CHECK(checked == 14, "%d files were in " GOLDEN, checked);
}

/* A GIF whose colours belong to the picture, made of one whose colours belong to the file. */
static void test_local_colours(ft_file *file)
{
    ft_tensor_info info;
    unsigned char *from = read_named(file, "file/palette.gif", &info), *to;
    size_t colours = (size_t)3 << ((from[10] & 7) + 1), at = 13 + colours, count = 13, more;
    ft__picture want, got;
    to = (unsigned char *)malloc((size_t)info.bytes);
    memcpy(to, from, 13);
    to[10] = (unsigned char)(from[10] & 0x7F);
    while (from[at] == 0x21) { /* extensions come before the picture */
        size_t end = at + 2;
        while (from[end]) end += 1 + (size_t)from[end];
        memcpy(to + count, from + at, end + 1 - at);
        count += end + 1 - at;
        at = end + 1;
    }
    CHECK(from[10] & 0x80 && from[at] == 0x2C, "another kind of GIF was expected");
    memcpy(to + count, from + at, 10);
    to[count + 9] = (unsigned char)(0x80 | (from[10] & 7));
    memcpy(to + count + 10, from + 13, colours);
    more = (size_t)info.bytes - at - 10;
    memcpy(to + count + 10 + colours, from + at + 10, more);
    count += 10 + colours + more;
    CHECK(!ft__decode(from, (size_t)info.bytes, 3, &want), "colours of the file");
    CHECK(!ft__decode(to, count, 3, &got), "colours of the picture");
    if (want.pixels && got.pixels) {
        CHECK(!memcmp(want.pixels, got.pixels, (size_t)(want.width * want.height * 3)), "pixels");
        check_beginnings("local.gif", to, count, &got);
    }
    ft__picture_free(&got);
    ft__picture_free(&want);
    free(to);
    free(from);
}

static void check_header(const char *what, const void *bytes, size_t count)
{
    ft__picture got;
    const char *fault = ft__decode((const unsigned char *)bytes, count, 3, &got);
    CHECK(fault != NULL, "%s was taken for a picture", what);
    if (!fault) ft__picture_free(&got);
}

/* Headers that lie; most of these make some reader allocate gigabytes or read past its end. */
static void test_hostile_headers(void)
{
    static const char *const pnm[] = {
        "P6 4294967297 1 255\n", "P6 99999999999999999999 99999999999999999999 255\n",
        "P6 65536 65536 255\n", "P6 0 5 255\n", "P6 2 2 65535\n123456789012345678901234567890",
        "P6 -1 5 255\n", "P6 # no end", "P6", "P6 1", "P6 1 1", "P6 1 1 255", "P6 1 1 255\n12",
        "P3 1 1 255\n1 2 3", "P5 3 1 256\n123456"};
    static const unsigned char bmp[54] = {'B', 'M', 54, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0,
                                          0, 0, 0, 0, 0x7F, 0, 0, 0, 0x80, 1, 0, 24};
    static const unsigned char gif[] = {'G', 'I', 'F', '8', '9', 'a', 255, 255, 255, 255, 0xF7};
    static const unsigned char tga[] = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 24, 0, 1, 2,
                                        3, 4, 5, 6, 7, 8};
    /* A Huffman table of 16 * 255 values, more than stb_image 2.27 has room for. */
    static unsigned char jpeg[2 + 4 + 17 + 16 * 255 + 2] = {0xFF, 0xD8, 0xFF, 0xC4, 16, 2};
    ft_preprocessing p = preprocessing(3, 8, 8, 8);
    ft__geometry g;
    size_t i;
    jpeg[4] = (2 + 17 + 16 * 255) >> 8;
    jpeg[5] = (2 + 17 + 16 * 255) & 255;
    for (i = 0; i < 16; ++i) jpeg[7 + i] = 255;
    jpeg[sizeof jpeg - 2] = 0xFF;
    jpeg[sizeof jpeg - 1] = 0xD9;
    CHECK(ft__picture_fault(jpeg, sizeof jpeg) && strstr(ft__picture_fault(jpeg, sizeof jpeg),
                                                         "Huffman"), "a large Huffman table");
    for (i = 7; i < 23; ++i) jpeg[i] = 16; /* 256 in all; the rest is passed over */
    jpeg[4] = (2 + 17 + 257) >> 8;
    jpeg[5] = (2 + 17 + 257) & 255;
    jpeg[22] = 17;
    CHECK(ft__picture_fault(jpeg, sizeof jpeg) != NULL, "257 values");
    jpeg[22] = 16;
    jpeg[5] -= 1;
    CHECK(!ft__picture_fault(jpeg, sizeof jpeg), "%s", ft__picture_fault(jpeg, sizeof jpeg));
    for (i = 0; i < sizeof pnm / sizeof *pnm; ++i) check_header(pnm[i], pnm[i], strlen(pnm[i]));
    check_header("a BMP of huge sides", bmp, sizeof bmp);
    check_header("a GIF without its colours", gif, sizeof gif);
    check_header("a Targa file", tga, sizeof tga);
    check_header("nothing", "", 0);
    CHECK(!ft__geometry_of(&p, 1, 1000, &g), "1 x 1000 pixels");
    CHECK(!ft__geometry_of(&p, 0, 5, &g), "0 x 5 pixels");
    CHECK(!ft__geometry_of(&p, 20000, 20000, &g), "400 million pixels");
    CHECK(ft__geometry_of(&p, 5, 1000, &g) && g.width == 8 && g.height == 1600, "5 x 1000 pixels");
}

/* ---- Folders ---- */

static void write_golden_file(ft_file *file, const char *name, const char *path)
{
    ft_tensor_info info;
    unsigned char *bytes = read_named(file, name, &info);
    if (bytes) write_bytes(path, bytes, (size_t)info.bytes);
    free(bytes);
}

static void make_tree(ft_file *file)
{
    CHECK(system("rm -rf " ROOT) == 0, "rm");
    make_folder(ROOT "/good/ants");
    make_folder(ROOT "/good/bees and wasps");
    make_folder(ROOT "/good/" KAEFER "");
    make_folder(ROOT "/good/.hidden");
    write_ppm(ROOT "/good/.hidden/x.ppm", 9, 9, 1);
    write_ppm(ROOT "/good/ants/b.PpM", 20, 11, 2);
    write_ppm(ROOT "/good/ants/Z.ppm", 11, 20, 3);
    write_ppm(ROOT "/good/ants/.a.ppm", 11, 20, 3);
    write_bytes(ROOT "/good/ants/notes.txt", "hello", 5);
    write_ppm(ROOT "/good/bees and wasps/one two.ppm", 30, 30, 4);
    write_golden_file(file, "file/baseline.jpg", ROOT "/good/bees and wasps/a.JPEG");
    write_golden_file(file, "file/colour.bmp", ROOT "/good/bees and wasps/b.bmp");
    write_golden_file(file, "file/alpha.png", ROOT "/good/" KAEFER "/" UE ".png");
    write_golden_file(file, "file/palette.gif", ROOT "/good/" KAEFER "/a.gif");
    write_golden_file(file, "file/grey.pgm", ROOT "/good/" KAEFER "/c.pgm");
}

static void test_good_folder(void)
{
    static const char *const names[] = {
        "ants/Z.ppm", "ants/b.PpM", "bees and wasps/a.JPEG", "bees and wasps/b.bmp",
        "bees and wasps/one two.ppm", KAEFER "/a.gif", KAEFER "/c.pgm", KAEFER "/" UE ".png"};
    static const int labels[] = {0, 0, 1, 1, 1, 2, 2, 2};
    ft_preprocessing p = preprocessing(3, 10, 10, 12);
    ft_model *m = new_model(2, 5, p);
    ft_data *data = ft_image_folder(m, ROOT "/good//", folder_options());
    int i;
    CHECK(data != NULL, "%s", ft_error_text(m));
    if (data) {
        CHECK(ft_data_count(data) == 8, "%d pictures", ft_data_count(data));
        CHECK(ft_data_classes(data) == 3, "%d classes", ft_data_classes(data));
        CHECK(ft_data_skipped(data) == 0, "%d skipped", ft_data_skipped(data));
        CHECK(!strcmp(ft_data_class_name(data, 1), "bees and wasps"), "class 1");
        CHECK(!strcmp(ft_data_class_name(data, 2), KAEFER), "class 2");
        CHECK(ft_data_class_name(data, 3) == NULL && ft_data_class_name(data, -1) == NULL, "3, -1");
        for (i = 0; i < 8 && i < ft_data_count(data); ++i) {
            CHECK(!strcmp(ft_data_name(data, i), names[i]), "%d: %s", i, ft_data_name(data, i));
            CHECK(ft_data_label(data, i) == labels[i], "%d: %d", i, ft_data_label(data, i));
        }
        CHECK(ft_data_label(data, 8) == -1 && ft_data_label(data, -1) == -1, "past the end");
        CHECK(!strcmp(ft_data_name(data, 99), ""), "past the end");
        CHECK(strstr(log_text, "notes.txt") != NULL, "the log: %s", log_text);
        CHECK(m->data == data, "the model's list");
        ft_data_free(data);
        CHECK(m->data == NULL, "the model's list");
    }
    ft_destroy(m);
}

/* One line of error that names the folder; then the model works on after ft_clear_error. */
static void expect_error(const char *path, ft_image_folder_options o, ft_status status,
                         const char *word1, const char *word2)
{
    ft_model *m = new_model(2, 5, preprocessing(3, 10, 10, 12));
    ft_data *data = ft_image_folder(m, path, o);
    CHECK(data == NULL && ft_error(m) == status, "%s: status %d", path, (int)ft_error(m));
    CHECK(strstr(ft_error_text(m), word1) && strstr(ft_error_text(m), word2), "%s: \"%s\" lacks"
          " %s or %s", path, ft_error_text(m), word1, word2);
    CHECK(strchr(ft_error_text(m), '\n') == NULL, "%s: one line", ft_error_text(m));
    CHECK(m->data == NULL, "nothing is kept");
    CHECK(ft_image_folder(m, ROOT "/good", folder_options()) == NULL, "the error sticks");
    ft_clear_error(m);
    CHECK(ft_image_folder(m, ROOT "/good", folder_options()) != NULL, "%s", ft_error_text(m));
    ft_destroy(m);
}

static void test_wrong_folders(ft_file *file)
{
    ft_image_folder_options o = folder_options();
    expect_error(ROOT "/absent", o, FT_IO, "absent", "folder not found");
    expect_error(ROOT "/good/ants/Z.ppm", o, FT_IO, "Z.ppm", "is a file, not a folder");
    expect_error(ROOT "/good/ants", o, FT_IO, "are in no class folder", "CLASS/Z.ppm");
    expect_error(ROOT, o, FT_IO, ROOT "/good", "are the classes in there");
    make_folder(ROOT "/empty");
    expect_error(ROOT "/empty", o, FT_IO, "/empty", "no folders in it");
    make_folder(ROOT "/hole/a");
    make_folder(ROOT "/hole/b");
    write_ppm(ROOT "/hole/a/1.ppm", 5, 5, 1);
    write_bytes(ROOT "/hole/b/readme.md", "x", 1);
    expect_error(ROOT "/hole", o, FT_IO, "/hole/b", "no pictures");
    make_folder(ROOT "/single/only");
    write_ppm(ROOT "/single/only/1.ppm", 5, 5, 1);
    expect_error(ROOT "/single", o, FT_IO, "one class", "only");
    make_folder(ROOT "/broken/fine");
    make_folder(ROOT "/broken/rotten");
    write_ppm(ROOT "/broken/fine/1.ppm", 5, 5, 1);
    write_golden_file(file, "file/colour.png", ROOT "/broken/fine/2.png");
    write_bytes(ROOT "/broken/rotten/1.jpg", "no JPEG", 7);
    write_bytes(ROOT "/broken/rotten/2.png", "", 0);
    expect_error(ROOT "/broken", o, FT_IO, "rotten", "none can be read");
    o.per_class = -1;
    expect_error(ROOT "/good", o, FT_INVALID, "per_class", "-1");
    o = folder_options();
    o.augmentation.shift = 1.5f;
    expect_error(ROOT "/good", o, FT_INVALID, "augmentation", "shift");
    o.augmentation.shift = 0;
    o.augmentation.scale = (float)NAN;
    expect_error(ROOT "/good", o, FT_INVALID, "augmentation", "scale");
}

static void test_without_preprocessing(void)
{
    ft_preprocessing none;
    ft_model *m;
    memset(&none, 0, sizeof none);
    m = new_model(1, 1, preprocessing(3, 8, 8, 0));
    m->preprocessing = none;
    CHECK(!ft_image_folder(m, ROOT "/good", folder_options()), "no preprocessing");
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "preprocessing"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* Broken files are left out, each named in one line, and counted. */
static void test_broken_files(ft_file *file)
{
    ft_tensor_info info;
    ft_model *m = new_model(2, 5, preprocessing(3, 10, 10, 0));
    ft_data *data;
    unsigned char *jpeg = read_named(file, "file/progressive.jpg", &info);
    static unsigned char ppm[4096];
    size_t bytes = make_ppm(ppm, 12, 12, 3);
    make_folder(ROOT "/some/a");
    make_folder(ROOT "/some/b");
    write_ppm(ROOT "/some/a/1.ppm", 7, 7, 1);
    write_ppm(ROOT "/some/b/1.ppm", 7, 7, 2);
    write_bytes(ROOT "/some/b/2 cut.ppm", ppm, bytes - 1);
    write_bytes(ROOT "/some/b/3 cut.jpg", jpeg, (size_t)info.bytes - 2);
    write_bytes(ROOT "/some/a/4 empty.gif", "", 0);
    write_bytes(ROOT "/some/a/5 text.bmp", "this is a text", 14);
    write_bytes(ROOT "/some/b/6 strip.ppm", ppm, make_ppm(ppm, 1, 300, 3));
    write_bytes(ROOT "/some/a/7 whole.jpg", jpeg, (size_t)info.bytes);
    data = ft_image_folder(m, ROOT "/some", folder_options());
    CHECK(data != NULL, "%s", ft_error_text(m));
    CHECK(ft_data_count(data) == 3 && ft_data_skipped(data) == 5, "%d and %d", ft_data_count(data),
          ft_data_skipped(data));
    CHECK(!strcmp(ft_data_name(data, 1), "a/7 whole.jpg"), "%s", ft_data_name(data, 1));
    CHECK(occurrences(log_text, "skipped:") == 5, "the log: %s", log_text);
    CHECK(occurrences(log_text, "2 cut.ppm: skipped: ") == 1
          && occurrences(log_text, "3 cut.jpg: skipped: ") == 1
          && occurrences(log_text, "4 empty.gif: skipped: ") == 1
          && occurrences(log_text, "5 text.bmp: skipped: ") == 1
          && occurrences(log_text, "6 strip.ppm: skipped: ") == 1, "the log: %s", log_text);
    ft_destroy(m);
    free(jpeg);
}

static void test_match_classes(void)
{
    static const char *const names[] = {KAEFER, "moths", "bees and wasps", "ants"};
    static const int labels[] = {3, 3, 2, 2, 2, 0, 0, 0}, array_labels[] = {0, 1};
    static const float pixels[600];
    ft_image_folder_options o = folder_options();
    ft_model *m = new_model(1, 5, preprocessing(3, 10, 10, 12));
    ft_data *data;
    int i;
    o.match_classes = true;
    ft_set_class_names(m, 4, names);
    data = ft_image_folder(m, ROOT "/good", o);
    CHECK(data && ft_data_classes(data) == 4, "%s", ft_error_text(m));
    for (i = 0; i < 8; ++i)
        CHECK(ft_data_label(data, i) == labels[i], "%d: %d", i, ft_data_label(data, i));
    CHECK(data && !strcmp(ft_data_class_name(data, 1), "moths"), "class 1");
    CHECK(!strcmp(ft_data_name(data, 0), "ants/Z.ppm"), "%s", ft_data_name(data, 0));
    o.classes_of = data;
    CHECK(!ft_image_folder(m, ROOT "/good", o) && strstr(ft_error_text(m), "must not both be set"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    o.match_classes = false;
    ft_set_class_names(m, 3, names);
    data = ft_image_folder(m, ROOT "/good", o);
    CHECK(data && ft_data_classes(data) == 4 && ft_data_label(data, 0) == 3, "%s", ft_error_text(m));
    o.classes_of = ft_arrays(m, 2, pixels, array_labels, (ft_array_options){.classes = 2});
    CHECK(!ft_image_folder(m, ROOT "/good", o) && strstr(ft_error_text(m), "'ants'")
          && strstr(ft_error_text(m), "2 classes of the training data (the first is '0')"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    o.classes_of = NULL;
    o.match_classes = true;
    CHECK(!ft_image_folder(m, ROOT "/good", o), "ants are none of its classes");
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "ants"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_set_class_names(m, 1, names);
    ft_destroy(m);
    /* Without names there is nothing to match. */
    m = new_model(1, 5, preprocessing(3, 10, 10, 12));
    CHECK(!ft_image_folder(m, ROOT "/good", o) && ft_error(m) == FT_INVALID
          && !strcmp(ft_error_text(m), ROOT "/good: the model has no class names to match"
                     " (ft_set_class_names, --labels)"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* Tracks of 6 frames; names that only look like them; a broken file among them. */
static void make_tracks(void)
{
    char path[200];
    int c, i;
    for (c = 0; c < 3; ++c) {
        snprintf(path, sizeof path, ROOT "/tracks/%c", 'a' + c);
        make_folder(path);
        for (i = 0; i < 24; ++i) {
            snprintf(path, sizeof path, ROOT "/tracks/%c/%05d_%05d.ppm", 'a' + c, i / 6, i % 6);
            write_ppm(path, 8 + i % 3, 8, (unsigned)(100 * c + i));
        }
    }
    write_bytes(ROOT "/tracks/b/00002_00003.ppm", "P6 2 2 255\n1", 12);
    write_ppm(ROOT "/tracks/a/20240607_120000.ppm", 8, 8, 1);
    write_ppm(ROOT "/tracks/a/20240607_120001.ppm", 8, 8, 2);
    write_ppm(ROOT "/tracks/a/00001_00001x.ppm", 8, 8, 3);
}

static void test_groups(void)
{
    ft_model *m = new_model(2, 5, preprocessing(3, 8, 8, 0));
    ft_image_folder_options o = folder_options();
    ft_data *data = ft_image_folder(m, ROOT "/tracks", o);
    int i, j, count = ft_data_count(data);
    CHECK(count == 74 && ft_data_skipped(data) == 1, "%d, %s", count, ft_error_text(m));
    for (i = 0; i < count; ++i)
        for (j = i + 1; j < count; ++j) {
            const char *a = ft_data_name(data, i), *b = ft_data_name(data, j);
            bool together = strlen(a) == 17 && strlen(b) == 17 && strncmp(a, b, 7) == 0;
            bool same = data->source.group(data->source.user, i)
                        == data->source.group(data->source.user, j);
            CHECK(together == same, "%s and %s: together %d", a, b, same);
        }
    o.no_groups = true;
    data = ft_image_folder(m, ROOT "/tracks", o);
    CHECK(data && data->source.group == NULL, "no_groups");
    ft_destroy(m);
}

static void test_per_class(void)
{
    char first[2][400], again[400];
    int seed, i, c, repeat;
    for (seed = 0; seed < 2; ++seed)
        for (repeat = 0; repeat < 2; ++repeat) {
            char *text = repeat ? again : first[seed];
            ft_model *m = new_model(1 + repeat, (uint64_t)seed, preprocessing(3, 8, 8, 0));
            ft_image_folder_options o = folder_options();
            int of_class[3] = {0, 0, 0};
            ft_data *data;
            o.per_class = 5;
            data = ft_image_folder(m, ROOT "/tracks", o);
            CHECK(ft_data_count(data) == 15, "%d: %s", ft_data_count(data), ft_error_text(m));
            text[0] = 0;
            for (i = 0; i < ft_data_count(data); ++i) {
                snprintf(text + strlen(text), 400 - strlen(text), "%s ", ft_data_name(data, i));
                of_class[ft_data_label(data, i)] += 1;
                CHECK(i == 0 || strcmp(ft_data_name(data, i - 1), ft_data_name(data, i)) < 0,
                      "in the order of the names");
            }
            for (c = 0; c < 3; ++c) CHECK(of_class[c] == 5, "class %d: %d", c, of_class[c]);
            if (repeat) CHECK(!strcmp(first[seed], again), "%s, then %s", first[seed], again);
            ft_destroy(m);
        }
    CHECK(strcmp(first[0], first[1]) != 0, "two seeds draw the same");
    {   /* All 23 readable ones of class b are found, whatever the order. */
        ft_model *m = new_model(1, 9, preprocessing(3, 8, 8, 0));
        ft_image_folder_options o = folder_options();
        ft_data *data;
        o.per_class = 23;
        data = ft_image_folder(m, ROOT "/tracks", o);
        CHECK(ft_data_count(data) == 69, "%d", ft_data_count(data));
        o.per_class = 1000;
        data = ft_image_folder(m, ROOT "/tracks", o);
        CHECK(ft_data_count(data) == 74, "%d", ft_data_count(data));
        ft_destroy(m);
    }
}

/* What is kept in memory, and what is decoded again, must give the same numbers in every view. */
static void test_cache(void)
{
    static const size_t caches[3] = {0, 1, 2000}; /* all, none, some */
    static float first[8][4][3 * 10 * 10], again[3 * 10 * 10];
    ft_preprocessing p = preprocessing(3, 10, 10, 12);
    int round, i, view;
    for (round = 0; round < 3; ++round) {
        ft_model *m = new_model(1 + round, 5, p);
        ft_image_folder_options o = folder_options();
        ft_data *data;
        int32_t label = -1;
        o.cache_bytes = caches[round];
        o.augmentation.scale = 0.3f;
        o.augmentation.shift = 0.2f;
        o.augmentation.flip = true;
        data = ft_image_folder(m, ROOT "/good", o);
        CHECK(ft_data_count(data) == 8, "%s", ft_error_text(m));
        for (i = 0; i < ft_data_count(data); ++i)
            for (view = 0; view < 4; ++view) {
                float *to = round ? again : first[i][view];
                CHECK(get_sample(data, &p, i, view, to, &label), "sample %d, view %d", i, view);
                CHECK(label == ft_data_label(data, i), "label %d", label);
                if (round) CHECK(!memcmp(to, first[i][view], sizeof again), "%d, view %d, cache"
                                 " %zu", i, view, caches[round]);
            }
        ft_destroy(m);
    }
    for (i = 0; i < 8; ++i)
        CHECK(memcmp(first[i][0], first[i][1], sizeof again) != 0, "view 1 is the plain one");
}

/* A file that goes away or changes after the folder was opened. */
static void test_changed_file(void)
{
    ft_preprocessing p = preprocessing(3, 8, 8, 0);
    ft_model *m = new_model(1, 5, p);
    ft_image_folder_options o = folder_options();
    ft_data *data;
    float values[3 * 8 * 8];
    int32_t label;
    unsigned char bytes[1000];
    size_t count;
    make_folder(ROOT "/changing/a");
    make_folder(ROOT "/changing/b");
    write_ppm(ROOT "/changing/a/1.ppm", 9, 9, 1);
    write_ppm(ROOT "/changing/a/2.ppm", 10, 12, 1);
    count = make_ppm(bytes, 9, 10, 1);
    memcpy(bytes + 11, " 9 9", 4); /* so the last row is not needed */
    write_bytes(ROOT "/changing/b/1.ppm", bytes, count);
    o.cache_bytes = 1;
    data = ft_image_folder(m, ROOT "/changing", o);
    CHECK(get_sample(data, &p, 0, 0, values, &label), "%s", ft_error_text(m));
    write_ppm(ROOT "/changing/a/1.ppm", 99, 99, 1);
    CHECK(!get_sample(data, &p, 0, 0, values, &label), "it has grown");
    write_ppm(ROOT "/changing/a/2.ppm", 12, 10, 1); /* as many bytes */
    CHECK(!get_sample(data, &p, 1, 0, values, &label), "it has other sides");
    CHECK(get_sample(data, &p, 2, 0, values, &label), "not yet");
    memcpy(bytes + 11, "10 9", 4);
    write_bytes(ROOT "/changing/b/1.ppm", bytes, count);
    CHECK(!get_sample(data, &p, 2, 0, values, &label), "it is wider, in as many bytes");
    CHECK(remove(ROOT "/changing/b/1.ppm") == 0, "remove");
    CHECK(!get_sample(data, &p, 2, 0, values, &label), "it is gone");
    CHECK(ft_error(m) == FT_OK, "a sample's failure is not the model's: %s", ft_error_text(m));
    ft_destroy(m);
}

/* Folder and prediction must see the same numbers. */
static void test_same_as_prediction(ft_file *file)
{
    ft_preprocessing p = preprocessing(1, 11, 9, 0);
    ft_model *m = new_model(1, 5, p);
    ft_data *data = ft_image_folder(m, ROOT "/good", folder_options());
    ft_tensor_info info;
    unsigned char *bytes = read_named(file, "file/alpha.png", &info);
    float a[99], b[99];
    int32_t label;
    CHECK(get_sample(data, &p, 7, 0, a, &label), "%s", ft_error_text(m));
    CHECK(ft__encoded_to_input(&m->context, &p, bytes, (size_t)info.bytes, "alpha.png", b), "%s",
          ft_error_text(m));
    CHECK(!memcmp(a, b, sizeof a), "folder and prediction differ");
    CHECK(!ft__encoded_to_input(&m->context, &p, bytes, 50, "half.png", b), "half a file");
    CHECK(ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), "half.png"), "%s",
          ft_error_text(m));
    free(bytes);
    ft_destroy(m);
}

/* An allocator that fails at call n, for every n. */
typedef struct Failing { int calls, fail_at, alive; } Failing;

static void *failing_allocate(void *user, size_t bytes, size_t alignment)
{
    Failing *failing = (Failing *)user;
    if (++failing->calls == failing->fail_at) return NULL;
    failing->alive += 1;
    return ft__default_allocate(NULL, bytes, alignment);
}

static void failing_release(void *user, void *memory, size_t bytes)
{
    ((Failing *)user)->alive -= 1;
    ft__default_release(NULL, memory, bytes);
}

static void test_no_memory(void)
{
    int n, done = 0;
    for (n = 1; n < 2000 && !done; ++n) {
        Failing failing = {0, 0, 0};
        ft_desc desc;
        ft_model *m;
        ft_image_folder_options o = folder_options();
        int part[100];
        memset(&desc, 0, sizeof desc);
        desc.threads = 2;
        failing.fail_at = n;
        desc.allocator.user = &failing;
        desc.allocator.allocate = failing_allocate;
        desc.allocator.release = failing_release;
        o.per_class = 3;
        o.match_classes = true;
        m = ft_create(desc);
        if (m) {
            static const char *const names[] = {"c", "b", "a"};
            ft_data *data;
            ft__loader *loader = NULL;
            ft_slot slot;
            ft_set_preprocessing(m, preprocessing(3, 8, 8, 0));
            ft_set_class_names(m, 3, names);
            data = ft_image_folder(m, ROOT "/tracks", o);
            if (data) {
                ft__split(data, 0.3f, 1, part);
                memset(&slot, 0, sizeof slot);
                slot.name = "labels";
                slot.type = FT_I32;
                loader = ft__loader_make(&m->context, data, &slot, 1, 4, 2);
                ft__loader_destroy(loader);
            }
            if (ft_error(m) == FT_OK) done = data && loader;
            else CHECK(ft_error(m) == FT_MEMORY, "call %d: %s", n, ft_error_text(m));
        }
        ft_destroy(m);
        CHECK(failing.alive == 0, "call %d: %d blocks are left", n, failing.alive);
    }
    CHECK(done && n > 50, "%d calls", n);
}

/* A budget or an arena that holds the pictures, but not as many of them in memory as one would
   like: the same numbers, within the budget. */
static void test_little_memory(void)
{
    static float first[74 * 192];
    static unsigned char arena[1 << 20];
    ft_preprocessing p = preprocessing(3, 8, 8, 0);
    size_t base = 0; /* of the model itself */
    int round, i, cached;
    for (round = 0; round < 3; ++round) {
        ft_desc desc;
        ft_model *m;
        ft_data *data;
        float values[192];
        int32_t label;
        memset(&desc, 0, sizeof desc);
        desc.threads = 2;
        if (round == 1) desc.memory_budget = base + 50000;
        if (round == 2) desc.arena = arena;
        if (round == 2) desc.arena_bytes = sizeof arena;
        m = ft_create(desc);
        if (round == 0) base = m->context.bytes;
        ft_set_preprocessing(m, p);
        data = ft_image_folder(m, ROOT "/tracks", folder_options());
        CHECK(ft_data_count(data) == 74, "%d: %s", round, ft_error_text(m));
        for (i = 0, cached = 0; i < ft_data_count(data); ++i) {
            cached += ((ft__folder *)data->source.user)->samples[i].picture != NULL;
            CHECK(get_sample(data, &p, i, 0, values, &label), "sample %d", i);
            if (round == 0) memcpy(first + i * 192, values, sizeof values);
            CHECK(!memcmp(first + i * 192, values, sizeof values), "sample %d", i);
        }
        if (round == 1) {
            CHECK(m->context.bytes_peak <= base + 50000, "%zu bytes", m->context.bytes_peak);
            CHECK(cached > 0 && cached < 74, "%d are kept", cached);
        }
        ft_destroy(m);
    }
}

/* ---- Pictures that are stored rotated: their header tells the sides of the upright one ---- */

static void test_facts(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_file *file = ft_file_open(m, "tests/golden/pictures.safetensors", (ft_weights_options){0});
    static unsigned char jpeg[4096];
    int orientation;
    CHECK(file != NULL, "%s", ft_error_text(m));
    for (orientation = 1; file && orientation <= 8; ++orientation) {
        ft__picture_facts facts;
        char name[40];
        ft_tensor_info bytes, pixels;
        snprintf(name, sizeof name, "file/orientation%d.jpg", orientation);
        bytes = ft_file_tensor(file, ft_file_find(file, name));
        CHECK(ft_file_read(file, ft_file_find(file, name), jpeg, (size_t)bytes.bytes) == FT_OK, "%s", name);
        snprintf(name, sizeof name, "pixels/orientation%d.jpg", orientation);
        pixels = ft_file_tensor(file, ft_file_find(file, name));
        CHECK(!ft__memory_facts(jpeg, (size_t)bytes.bytes, &facts) && facts.height == pixels.shape.size[0]
              && facts.width == pixels.shape.size[1] && facts.turned == (orientation > 1),
              "%s: %d x %d", name, facts.width, facts.height);
    }
    ft_file_close(file);
    ft_destroy(m);
}

/* ---- What PNG data inflates to, against an encoder by RFC 1951 written here ---- */

typedef struct deflated { unsigned char bytes[1 << 16]; int bits; long total; } deflated;

static void put_bits(deflated *d, unsigned value, int count)
{
    for (; count > 0; --count, value >>= 1, ++d->bits)
        d->bytes[d->bits / 8] |= (unsigned char)((value & 1) << d->bits % 8);
}

/* A symbol by the codes that these lengths give (RFC 1951, 3.2.2), the top bit first. */
static void put_symbol(deflated *d, const int *lengths, int count, int symbol)
{
    unsigned code = 0;
    int length, i;
    for (length = 1; length <= lengths[symbol]; ++length) {
        for (i = 0; i < count; ++i)
            if (lengths[i] == length && (length < lengths[symbol] || i < symbol)) code += 1;
        if (length < lengths[symbol]) code <<= 1;
    }
    for (i = lengths[symbol] - 1; i >= 0; --i) put_bits(d, code >> i, 1);
}

/* 600 symbols and the end. Length symbols are followed by a distance, both with random extra bits. */
static void put_symbols(deflated *d, const int *literals, int literal_count, const int *distances)
{
    static const int least[29] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43,
                                  51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const int extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4,
                                  4, 4, 5, 5, 5, 5, 0};
    int i;
    for (i = 0; i < 600; ++i) {
        int symbol = (int)(noise() % 286), distance, more;
        if (!literals[symbol] || symbol == 256) continue;
        put_symbol(d, literals, literal_count, symbol);
        if (symbol < 256) {
            d->total += 1;
            continue;
        }
        more = (int)(noise() & ((1u << extra[symbol - 257]) - 1));
        put_bits(d, (unsigned)more, extra[symbol - 257]);
        d->total += least[symbol - 257] + more;
        do distance = (int)(noise() % 30); while (!distances[distance]);
        put_symbol(d, distances, 30, distance);
        put_bits(d, noise(), distance < 4 ? 0 : (distance - 2) / 2);
    }
    put_symbol(d, literals, literal_count, 256);
}

/* Code lengths, some as runs: of the lengths' own codes 0 to 15 have 5 bits, 16 has 2, 17 and 18
   have 3. */
static void put_lengths(deflated *d, const int *lengths, int count)
{
    static const int order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    int own[19], i, run;
    for (i = 0; i < 19; ++i) own[i] = i < 16 ? 5 : i == 16 ? 2 : 3;
    for (i = 0; i < 19; ++i) put_bits(d, (unsigned)own[order[i]], 3);
    for (i = 0; i < count; i += run) {
        for (run = 1; i + run < count && lengths[i + run] == lengths[i]; ++run) {}
        if (lengths[i] == 0 && run >= 11) {
            if (run > 138) run = 138;
            put_symbol(d, own, 19, 18);
            put_bits(d, (unsigned)run - 11, 7);
        } else if (lengths[i] == 0 && run >= 3) {
            put_symbol(d, own, 19, 17);
            put_bits(d, (unsigned)run - 3, 3);
        } else {
            put_symbol(d, own, 19, lengths[i]);
            if (run > 7) run = 7;
            if (run < 4) run = 1;
            else {
                put_symbol(d, own, 19, 16);
                put_bits(d, (unsigned)run - 4, 2);
            }
        }
    }
}

/* Which symbols have codes changes with `turn`; their lengths are 1, 2, ..., 14, 15, 15. */
static void put_dynamic(deflated *d, int turn)
{
    static const int used[16] = {256, 65, 257, 264, 265, 268, 273, 277, 281, 284, 285, 0, 255, 144,
                                 99, 32};
    int all[316], i;
    memset(all, 0, sizeof all);
    for (i = 0; i < 16; ++i) all[used[(i + turn) % 16]] = i < 14 ? i + 1 : 15;
    for (i = 0; i < 16; ++i) all[286 + (i + 5 * turn) % 30] = i < 14 ? i + 1 : 15;
    put_bits(d, 29, 5); /* 286 literals and lengths */
    put_bits(d, 29, 5); /* 30 distances */
    put_bits(d, 15, 4); /* 19 lengths of lengths */
    put_lengths(d, all, 316);
    put_symbols(d, all, 286, all + 286);
}

static void put_fixed(deflated *d)
{
    int literals[288], distances[30], i;
    for (i = 0; i < 288; ++i) literals[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    for (i = 0; i < 30; ++i) distances[i] = 5;
    put_symbols(d, literals, 288, distances);
}

static void put_stored(deflated *d, int count)
{
    d->bits = (d->bits + 7) / 8 * 8;
    put_bits(d, (unsigned)count, 16);
    put_bits(d, ~(unsigned)count, 16);
    d->bits += 8 * count;
    d->total += count;
}

/* The same cut into chunks, with only so many of its bytes: is it at most `most`, and is it whole? */
static bool inflates(const deflated *d, int bytes, int chunk, long most, ft__inflate *z)
{
    static unsigned char file[1 << 18];
    size_t at = 0;
    int i, some;
    memset(z, 0, sizeof *z);
    for (i = 0; i < bytes; i += some) {
        some = bytes - i < chunk ? bytes - i : chunk;
        memset(file + at, 0, 12);
        file[at + 6] = (unsigned char)(some >> 8);
        file[at + 7] = (unsigned char)some;
        memcpy(file + at + 8, "IDAT", 4);
        memcpy(file + at + 12, d->bytes + i, (size_t)some);
        at += 12 + (size_t)some;
    }
    memset(file + at, 0, 16);
    memcpy(file + at + 8, "IEND", 4);
    z->bytes = file;
    z->count = at + 16;
    z->more = ft__png_chunk;
    ft__inflate_number(z, 16); /* zlib's header */
    return ft__inflates_within(z, (uint64_t)most);
}

static void test_inflating(void)
{
    static deflated d;
    int kind, turn, bytes, cut;
    for (turn = 0; turn < 16; ++turn) {
        ft__inflate z;
        memset(&d, 0, sizeof d);
        put_bits(&d, 0x0178, 16); /* zlib's header */
        put_bits(&d, 0, 3); /* all distances reach back to bytes that are there */
        put_stored(&d, 32768);
        for (kind = 0; kind < 4; ++kind) {
            put_bits(&d, kind == 3, 1);
            put_bits(&d, (unsigned)(kind + turn) % 3, 2);
            if ((kind + turn) % 3 == 0) put_stored(&d, turn * 9);
            if ((kind + turn) % 3 == 1) put_fixed(&d);
            if ((kind + turn) % 3 == 2) put_dynamic(&d, turn);
        }
        bytes = (d.bits + 7) / 8;
        CHECK(inflates(&d, bytes, turn % 2 ? 7 : 1000, d.total, &z) && z.total == (uint64_t)d.total,
              "turn %d: it inflates to %ld bytes, not %ld", turn, (long)z.total, d.total);
        CHECK(!inflates(&d, bytes, 1000, d.total - 1, &z), "turn %d: one byte too many", turn);
        for (cut = 1; cut < 20; ++cut)
            CHECK(!inflates(&d, bytes - cut, 1000, d.total, &z), "turn %d: %d bytes are missing",
                  turn, cut);
    }
}

/* ---- Arrays and any source ---- */

static void test_arrays(void)
{
    static const float values[4 * 2] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int labels[4] = {0, 2, 1, 2}, wrong[4] = {0, 2, -1, 2};
    ft_array_options o;
    ft_model *m = new_model(1, 1, preprocessing(3, 8, 8, 0));
    ft_data *data;
    ft_slot slots[2];
    float x[2] = {0, 0};
    int32_t label = 0;
    memset(&o, 0, sizeof o);
    memset(slots, 0, sizeof slots);
    slots[0].name = "input";
    slots[0].shape.rank = 1;
    slots[0].shape.size[0] = 2;
    slots[0].values = x;
    slots[1].name = "labels";
    slots[1].type = FT_I32;
    slots[1].values = &label;
    data = ft_arrays(m, 4, values, labels, o);
    CHECK(ft_data_count(data) == 4 && ft_data_classes(data) == 3, "%s", ft_error_text(m));
    CHECK(data->source.get(data->source.user, 3, 0, slots, 2), "get");
    CHECK(x[0] == 7 && x[1] == 8 && label == 2 && ft_data_label(data, 2) == 1, "%g %g %d",
          (double)x[0], (double)x[1], label);
    CHECK(ft_data_skipped(data) == 0 && !strcmp(ft_data_name(data, 0), ""), "no names");
    o.classes = 2;
    CHECK(!ft_arrays(m, 4, values, labels, o), "label 2 of 2 classes");
    CHECK(strstr(ft_error_text(m), "labels[1] is 2") != NULL, "%s", ft_error_text(m));
    ft_clear_error(m);
    o.classes = 0;
    CHECK(!ft_arrays(m, 4, values, wrong, o) && ft_error(m) == FT_INVALID, "label -1");
    ft_clear_error(m);
    CHECK(!ft_arrays(m, 0, values, labels, o) && ft_error(m) == FT_INVALID, "no samples");
    ft_clear_error(m);
    CHECK(!ft_arrays(m, 4, NULL, labels, o) && ft_error(m) == FT_INVALID, "no values");
    ft_clear_error(m);
    ft_data_free(NULL);
    CHECK(ft_data_count(NULL) == 0 && ft_data_label(NULL, 0) == -1, "NULL is fine");
    ft_destroy(m);
}

/* ---- Samples that cannot be read ---- */
typedef struct Lines { int left_out; } Lines;

static void count_lines(void *user, const char *line)
{
    if (strstr(line, "is skipped")) ((Lines *)user)->left_out += 1;
}

/* Every third sample is unreadable: each is counted and named once, whatever reads it. */
static bool third_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    int s;
    (void)user, (void)view;
    for (s = 0; s < slot_count; ++s) {
        if (slots[s].type == FT_I32) *(int32_t *)slots[s].values = index % 2;
        else *(float *)slots[s].values = (float)(index % 2);
    }
    return index % 3 != 0;
}

static void test_left_out(void)
{
    Lines lines = {0};
    ft_desc desc = {.seed = 1, .log = count_lines, .log_user = &lines};
    ft_model *m = ft_create(desc);
    ft_source source;
    ft_data *data;
    ft_evaluation e;
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {1}});
    x = ft_linear(m, "fc", x, 2, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels",
                (ft_input_options){.type = FT_I32}), (ft_loss_options){0}));
    memset(&source, 0, sizeof source);
    source.count = 30;
    source.classes = 2;
    CHECK(!ft_data_source(m, source) && strstr(ft_error_text(m), "get is NULL"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    source.get = third_get;
    source.count = 0;
    CHECK(!ft_data_source(m, source) && strstr(ft_error_text(m), "0 samples"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    source.count = 30;
    data = ft_data_source(m, source);
    ft_fit(m, data, (ft_fit_options){.epochs = 5});
    CHECK(ft_error(m) == FT_OK && ft_data_skipped(data) == 10 && lines.left_out == 10,
          "%d skipped, %d lines: %s", ft_data_skipped(data), lines.left_out, ft_error_text(m));
    e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(e.skipped == 10 && e.total == 20 && ft_data_skipped(data) == 10 && lines.left_out == 10,
          "%d of %d left out, %d skipped, %d lines", e.skipped, e.total, ft_data_skipped(data),
          lines.left_out);
    ft_destroy(m);
}

/* ---- Split ---- */
typedef struct Samples { int count, classes; int label[600]; uint64_t group[600]; } Samples;

static bool samples_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    (void)user, (void)index, (void)view, (void)slots, (void)slot_count;
    return true;
}
static int samples_label(void *user, int index) { return ((Samples *)user)->label[index]; }
static uint64_t samples_group(void *user, int index) { return ((Samples *)user)->group[index]; }

static ft_data *samples_data(ft_model *m, Samples *s, bool groups)
{
    ft_source source;
    memset(&source, 0, sizeof source);
    source.user = s;
    source.count = s->count;
    source.classes = s->classes;
    source.get = samples_get;
    source.label = samples_label;
    source.group = groups ? samples_group : NULL;
    return ft_data_source(m, source);
}

static int groups_of_class(const Samples *s, int c)
{
    int i, j, groups = 0;
    for (i = 0; i < s->count; ++i) {
        if (s->label[i] != c) continue;
        for (j = 0; j < i; ++j)
            if (s->label[j] == c && s->group[j] == s->group[i]) break;
        groups += j == i;
    }
    return groups;
}

static void check_split(const Samples *s, const int *part, float share, bool groups, bool across)
{
    int i, j, c;
    for (i = 0; i < s->count; ++i) {
        CHECK(part[i] == 0 || part[i] == 1, "part[%d] is %d", i, part[i]);
        for (j = 0; groups && j < i; ++j)
            if (s->group[i] == s->group[j])
                CHECK(part[i] == part[j], "group %d is split", (int)s->group[i]);
    }
    for (c = 0; c < s->classes; ++c) {
        int of[2] = {0, 0}, largest = 1, count = groups ? groups_of_class(s, c) : 0;
        for (i = 0; i < s->count; ++i) {
            int size = 0;
            if (s->label[i] != c) continue;
            of[part[i]] += 1;
            for (j = 0; groups && j < s->count; ++j) size += s->group[i] == s->group[j];
            if (size > largest) largest = size;
        }
        if (of[0] + of[1] == 0) continue;
        if (!groups) count = of[0] + of[1];
        CHECK(of[0] > 0, "class %d has nothing to train on", c);
        if (across) continue;
        if (count > 1) CHECK(of[1] > 0, "class %d of %d groups has nothing held back", c, count);
        else CHECK(of[1] == 0, "class %d of one group", c);
        if (count > 1)
            CHECK(fabs(of[1] - (double)share * (of[0] + of[1])) <= largest, "class %d: %d of %d"
                  " held back, groups of up to %d", c, of[1], of[0] + of[1], largest);
    }
}

static void test_split(void)
{
    static Samples s;
    static int part[600], again[600], other[600];
    static const float shares[3] = {0.1f, 0.25f, 0.5f};
    int round, i, differ = 0;
    for (round = 0; round < 40; ++round) {
        bool groups = round % 4 != 0, across = round % 4 == 3;
        float share = shares[round % 3];
        ft_model *m = new_model(1, 1, preprocessing(3, 8, 8, 0));
        ft_data *data;
        noise_state = (unsigned)round + 77;
        s.count = 60 + (int)(noise() % 500);
        s.classes = 2 + (int)(noise() % 6);
        for (i = 0; i < s.count; ++i) {
            /* Classes of very unlike sizes; groups of 1 to 30, in one class or across them. */
            int kind = (int)(noise() % 100);
            s.label[i] = kind < 60 ? 0 : kind < 97 ? 1 + kind % (s.classes - 1) : s.classes - 1;
            s.group[i] = (uint64_t)(noise() % 12) * 1000 + (across ? 0 : (uint64_t)s.label[i]);
        }
        data = samples_data(m, &s, groups);
        CHECK(ft__split(data, share, 3, part), "%s", ft_error_text(m));
        check_split(&s, part, share, groups, across);
        CHECK(ft__split(data, share, 3, again), "%s", ft_error_text(m));
        CHECK(!memcmp(part, again, (size_t)s.count * sizeof *part), "the same seed");
        ft__split(data, share, 4, other);
        differ += memcmp(part, other, (size_t)s.count * sizeof *part) != 0;
        CHECK(ft__split(data, 0, 3, part), "%s", ft_error_text(m));
        for (i = 0; i < s.count; ++i) CHECK(part[i] == 0, "nothing is to be held back");
        CHECK(!ft__split(data, 1.0f, 3, part) && ft_error(m) == FT_INVALID, "all held back");
        ft_destroy(m);
    }
    CHECK(differ > 35, "%d of 40 seeds differ", differ);
    {   /* Groups that are too large for the share; a share that would take all; a tie. */
        static const int sizes[2] = {30, 20};
        ft_model *m = new_model(1, 1, preprocessing(3, 8, 8, 0));
        ft_data *data;
        int held, seed;
        s.count = 50;
        s.classes = 1;
        memset(s.label, 0, sizeof s.label);
        for (i = 0; i < s.count; ++i) s.group[i] = i < sizes[0] ? 1 : 2;
        data = samples_data(m, &s, true);
        for (seed = 0; seed < 8; ++seed) {
            ft__split(data, 0.1f, (uint64_t)seed, part);
            for (i = 0, held = 0; i < s.count; ++i) held += part[i];
            CHECK(held == sizes[1] && part[49] == 1, "%d of 50 held back", held);
        }
        s.count = 5;
        data = samples_data(m, &s, false);
        ft__split(data, 0.99f, 1, part);
        for (i = 0, held = 0; i < s.count; ++i) held += part[i];
        CHECK(held == 4, "%d of 5 held back", held);
        ft__split(data, 0.5f, 1, part);
        for (i = 0, held = 0; i < s.count; ++i) held += part[i];
        CHECK(held == 2, "%d of 5 held back", held);
        /* The only sample of class 1 belongs to a group of class 0. */
        s.count = 6;
        s.classes = 2;
        for (i = 0; i < s.count; ++i) s.group[i] = (uint64_t)(i / 2);
        s.label[3] = 1;
        data = samples_data(m, &s, true);
        for (seed = 0; seed < 20; ++seed) {
            ft__split(data, 0.34f, (uint64_t)seed, part);
            CHECK(part[3] == 0 && part[2] == 0, "seed %d leaves class 1 nothing", seed);
        }
        ft_destroy(m);
    }
    {   /* A class of one sample, one of a single group, one of two; 10 of 100 exactly. */
        ft_model *m = new_model(1, 1, preprocessing(3, 8, 8, 0));
        int held[4] = {0, 0, 0, 0};
        s.count = 121;
        s.classes = 4;
        for (i = 0; i < s.count; ++i) {
            s.label[i] = i < 1 ? 0 : i < 11 ? 1 : i < 21 ? 2 : 3;
            s.group[i] = (uint64_t)(i < 11 ? s.label[i] : i < 21 ? 10 + i / 20 : 1000 + i);
        }
        ft__split(samples_data(m, &s, true), 0.1f, 9, part);
        for (i = 0; i < s.count; ++i) held[s.label[i]] += part[i];
        CHECK(held[0] == 0 && held[1] == 0, "%d and %d held", held[0], held[1]);
        CHECK(held[2] == 1 && held[3] == 10, "%d and %d held", held[2], held[3]);
        ft_destroy(m);
    }
}

/* ---- Augmentation ---- */
#include "augmented.h"

/* Pixel value 10 + 20 y + x of an 11 x 9 picture: shows where a number came from. */
enum { AUG_W = 11, AUG_H = 9 };

static int mirrored(int i, int size)
{
    while (i < 0 || i >= size) i = i < 0 ? -i : 2 * (size - 1) - i;
    return i;
}

static void test_shift_and_flip(void)
{
    ft_preprocessing p = preprocessing(1, AUG_W, AUG_H, 0);
    ft_augmentation a = {.shift = 0.2f, .flip = true}; /* 2.2 -> 2 columns, 1.8 -> 2 rows */
    ft__geometry g = {AUG_W, AUG_H, 0, 0};
    uint8_t picture[AUG_W * AUG_H];
    float plain[AUG_W * AUG_H], got[AUG_W * AUG_H], again[AUG_W * AUG_H];
    int seen[2][5][5], view, x, y, dx, dy, flip, flips = 0;
    ft__view v;
    memset(seen, 0, sizeof seen);
    for (y = 0; y < AUG_H; ++y)
        for (x = 0; x < AUG_W; ++x) picture[y * AUG_W + x] = (uint8_t)(10 + 20 * y + x);
    ft__draw_view(&a, &p, 7, 3, 0, AUG_W, AUG_H, &v);
    ft__view_to_tensor(&p, picture, &g, &v, NULL, plain);
    for (y = 0; y < AUG_H; ++y)
        for (x = 0; x < AUG_W; ++x)
            CHECK(CLOSE(plain[y * AUG_W + x],
                        ((10 + 20 * y + x) / 255.0 - .1307) / .3081, 1e-5), "view 0 is plain");
    for (view = 1; view <= 600; ++view) {
        int found = 0;
        ft__draw_view(&a, &p, 7, 3, view, AUG_W, AUG_H, &v);
        ft__view_to_tensor(&p, picture, &g, &v, NULL, got);
        ft__draw_view(&a, &p, 7, 3, view, AUG_W, AUG_H, &v);
        ft__view_to_tensor(&p, picture, &g, &v, NULL, again);
        CHECK(!memcmp(got, again, sizeof got), "view %d is not the same again", view);
        for (flip = 0; flip < 2; ++flip)
            for (dy = -2; dy <= 2; ++dy)
                for (dx = -2; dx <= 2; ++dx) {
                    bool same = true;
                    for (y = 0; y < AUG_H && same; ++y)
                        for (x = 0; x < AUG_W && same; ++x) {
                            int sx = mirrored((flip ? AUG_W - 1 - x : x) + dx, AUG_W);
                            same = got[y * AUG_W + x]
                                   == plain[mirrored(y + dy, AUG_H) * AUG_W + sx];
                        }
                    if (!same) continue;
                    seen[flip][dy + 2][dx + 2] += 1;
                    flips += flip;
                    ++found;
                }
        CHECK(found == 1, "view %d is %d of the shifts", view, found);
    }
    for (flip = 0; flip < 2; ++flip)
        for (y = 0; y < 5; ++y)
            for (x = 0; x < 5; ++x) CHECK(seen[flip][y][x] > 1, "%d %d %d never", flip, y, x);
    CHECK(flips > 240 && flips < 360, "%d of 600 flipped", flips);
}

static void test_crops(void)
{
    ft_preprocessing p = preprocessing(3, 16, 16, 32);
    ft_augmentation a = {.scale = 0.25f};
    double area_sum = 0;
    int view, index, smallest = 1 << 30, ratios[2] = {0, 0}, others = 0;
    ft__view v, w;
    for (view = 1; view <= 2000; ++view) {
        double share, ratio;
        ft__draw_view(&a, &p, 1, 5, view, 48, 32, &v);
        share = v.crop_width * v.crop_height / (48.0 * 32.0);
        ratio = (double)v.crop_width / v.crop_height;
        CHECK(v.crop_left >= 0 && v.crop_top >= 0 && v.crop_left + v.crop_width <= 48
              && v.crop_top + v.crop_height <= 32, "view %d leaves the picture", view);
        CHECK(share > 0.22 && share <= 1.0, "view %d: %g of the area", view, share);
        CHECK(ratio > 0.7 && ratio < 1.4, "view %d: %g wide", view, ratio);
        CHECK(!v.flip && !v.shift_x && !v.shift_y, "view %d", view);
        area_sum += share;
        ratios[ratio > 1] += 1;
        if (v.crop_width * v.crop_height < smallest) smallest = v.crop_width * v.crop_height;
    }
    CHECK(area_sum / 2000 > 0.45 && area_sum / 2000 < 0.65, "mean area %g", area_sum / 2000);
    CHECK(smallest < 0.28 * 48 * 32, "smallest %d", smallest);
    CHECK(ratios[0] > 700 && ratios[1] > 700, "%d upright, %d wide", ratios[0], ratios[1]);
    /* A strip, where no such crop fits: the middle of it, 4:3. */
    a.scale = 0.9f;
    ft__draw_view(&a, &p, 1, 5, 1, 300, 30, &v);
    CHECK(v.crop_width == 40 && v.crop_height == 30 && v.crop_left == 130 && v.crop_top == 0,
          "%d x %d at %d, %d", v.crop_width, v.crop_height, v.crop_left, v.crop_top);
    ft__draw_view(&a, &p, 1, 5, 1, 30, 300, &v);
    CHECK(v.crop_width == 30 && v.crop_height == 40 && v.crop_top == 130, "%d x %d at %d",
          v.crop_width, v.crop_height, v.crop_top);
    /* Another seed, index or view draws something else. */
    a.scale = 0.1f;
    for (index = 0; index < 50; ++index) {
        ft__draw_view(&a, &p, 1, index, 1, 64, 64, &v);
        ft__draw_view(&a, &p, 2, index, 1, 64, 64, &w);
        others += memcmp(&v, &w, sizeof v) != 0;
        ft__draw_view(&a, &p, 1, index, 2, 64, 64, &w);
        others += memcmp(&v, &w, sizeof v) != 0;
        ft__draw_view(&a, &p, 1, index + 1, 1, 64, 64, &w);
        others += memcmp(&v, &w, sizeof v) != 0;
    }
    CHECK(others == 150, "%d of 150 differ", others);
}

/* A crop's numbers are those of the crop cut out first and then resized. */
static void test_crop_values(void)
{
    ft_preprocessing p = preprocessing(3, 8, 6, 0);
    ft__geometry g = {30, 20, 0, 0};
    ft__view v = {.crop_left = 7, .crop_top = 3, .crop_width = 13, .crop_height = 11, .flip = true};
    ft_augmentation crops = {.scale = 0.5f};
    static uint8_t picture[30 * 20 * 3], crop[13 * 11 * 3], resized[8 * 6 * 3];
    float got[8 * 6 * 3];
    size_t bytes = ft__view_workspace(&p, &crops, 30, 20);
    void *workspace = malloc(bytes);
    int i, x, y, c;
    for (i = 0; i < 30 * 20 * 3; ++i) picture[i] = (uint8_t)noise();
    for (y = 0; y < 11; ++y) memcpy(crop + y * 39, picture + ((y + 3) * 30 + 7) * 3, 39);
    ft__resize(crop, 39, 13, 11, 3, resized, 8, 6, FT__BILINEAR, workspace);
    free(workspace);
    workspace = malloc(bytes);
    ft__view_to_tensor(&p, picture, &g, &v, workspace, got);
    for (c = 0; c < 3; ++c)
        for (y = 0; y < 6; ++y)
            for (x = 0; x < 8; ++x)
                CHECK(CLOSE(got[(c * 6 + y) * 8 + x],
                            (resized[(y * 8 + 7 - x) * 3 + c] / 255.0 - (double)p.mean[c])
                            / (double)p.std[c], 1e-5), "%d %d %d", c, y, x);
    free(workspace);
}

/* ---- Loader ---- */
enum { LOADED = 103 };

/* A source whose every number can be told, and of which each 9th sample cannot be read. */
static bool counting_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    int s, i;
    (void)user;
    for (s = 0; s < slot_count; ++s) {
        if (!strcmp(slots[s].name, "labels")) *(int32_t *)slots[s].values = index % 7;
        else
            for (i = 0; i < (index % 5 == 2 ? 3 : 5); ++i) /* sometimes less than its place */
                ((float *)slots[s].values)[i] = (float)(1000 * index + 10 * view + i);
        slots[s].length = index + s;
    }
    return index % 9 != 4;
}

static void test_loader_order(int threads, int batch_size, int depth)
{
    ft_model *m = new_model(threads, 1, preprocessing(3, 8, 8, 0));
    ft_source source;
    ft_data *data;
    ft_slot slots[2];
    ft__loader *loader;
    const ft__batch *batch;
    int order[LOADED], views[LOADED], i, pass;
    memset(&source, 0, sizeof source);
    memset(slots, 0, sizeof slots);
    source.count = LOADED;
    source.get = counting_get;
    data = ft_data_source(m, source);
    slots[0].name = "labels";
    slots[0].type = FT_I32;
    slots[1].name = "input";
    slots[1].shape.rank = 1;
    slots[1].shape.size[0] = 5;
    loader = ft__loader_make(&m->context, data, slots, 2, batch_size, depth);
    CHECK(loader != NULL, "%s", ft_error_text(m));
    for (pass = 0; loader && pass < 5; ++pass) {
        int at = 0, row, skipped = 0, count = pass == 3 ? 1 : LOADED, used = 0;
        ft__shuffle(order, LOADED, (uint64_t)pass);
        for (i = 0; i < LOADED; ++i) views[i] = i * pass;
        ft__loader_start(loader, order, pass == 2 ? NULL : views, count);
        while ((batch = ft__loader_next(loader)) != NULL) {
            int wanted = count - at < batch_size ? count - at : batch_size;
            CHECK(batch->first == at && batch->wanted == wanted, "%d, %d", batch->first,
                  batch->wanted);
            for (i = at, row = 0; i < at + wanted; ++i) {
                const float *values = (const float *)batch->values[1] + 5 * row;
                int view = pass == 2 ? 0 : views[i];
                if (order[i] % 9 == 4) {
                    ++skipped;
                    continue;
                }
                CHECK(batch->index[row] == order[i], "row %d", row);
                CHECK(((const int32_t *)batch->values[0])[row] == order[i] % 7, "row %d", row);
                CHECK(batch->lengths[1][row] == order[i] + 1, "row %d", row);
                CHECK(values[0] == (float)(1000 * order[i] + 10 * view)
                      && values[4] == (order[i] % 5 == 2 ? 0 : values[0] + 4), "row %d: %g, %g",
                      row, (double)values[0], (double)values[4]);
                ++row;
            }
            CHECK(batch->count == row, "%d, not %d", batch->count, row);
            at += wanted;
            if (used++ % 2) ft__loader_release(loader);
            if (pass == 1 && used == 2) break; /* left in the middle */
        }
        CHECK(at == count || pass == 1, "%d of %d", at, count);
        CHECK(loader->skipped == skipped, "%d, not %d", loader->skipped, skipped);
    }
    ft__loader_start(loader, order, views, 0);
    CHECK(ft__loader_next(loader) == NULL && ft__loader_next(loader) == NULL, "nothing to load");
    ft__loader_start(loader, order, views, LOADED); /* destroyed while it works */
    ft__loader_destroy(loader);
    ft_destroy(m);
}

/* The app's own threads: here one, which takes the work from the end. */
static void backwards(void *user, void (*body)(void *context, int index), void *context, int count)
{
    (void)user;
    while (count-- > 0) body(context, count);
}

/* The same bytes from a folder, whatever the number of threads; files that are decoded again. */
static void test_loader_folder(void)
{
    static float first[74 * 192];
    static const int threads[4] = {1, 2, 5, 3};
    ft_preprocessing p = preprocessing(3, 8, 8, 0);
    int round;
    for (round = 0; round < 4; ++round) {
        ft_model *m = new_model(round == 3 ? 1 : threads[round], 1, p);
        ft_image_folder_options o = folder_options();
        ft_input_options picture = {FT_F32, {3, 8, 8}}, number = {FT_I32, {0}};
        int order[74], views[74], i, at = 0;
        const ft__batch *batch;
        ft__loader *loader;
        ft_data *data;
        o.cache_bytes = 5000; /* about 26 of the 74 */
        if (round == 3) {
            m->context.threads = threads[3];
            m->context.desc.parallel_for = backwards;
        }
        o.augmentation.shift = 0.2f;
        o.augmentation.scale = 0.5f;
        data = ft_image_folder(m, ROOT "/tracks", o);
        ft_input(m, "input", picture);
        ft_input(m, "labels", number);
        ft__shuffle(order, 74, 11);
        for (i = 0; i < 74; ++i) views[i] = i % 3;
        loader = ft__loader_create(m, data, 10, NULL);
        CHECK(loader != NULL, "%s", ft_error_text(m));
        if (!loader) return;
        CHECK(loader->slot_count == 2 && loader->thread_count <= threads[round], "%d slots, %d"
              " threads", loader->slot_count, loader->thread_count);
        ft__loader_start(loader, order, views, 74);
        while ((batch = ft__loader_next(loader)) != NULL) {
            const float *x = (const float *)batch->values[0];
            const int32_t *y = (const int32_t *)batch->values[1];
            for (i = 0; i < batch->count; ++i, ++at) {
                float direct[192];
                int32_t label = -1;
                CHECK(get_sample(data, &p, order[at], views[at], direct, &label), "get %d", at);
                CHECK(!memcmp(direct, x + i * 192, sizeof direct) && label == y[i], "sample %d",
                      at);
                if (round == 0) memcpy(first + at * 192, x + i * 192, sizeof direct);
                CHECK(!memcmp(first + at * 192, x + i * 192, sizeof direct), "sample %d with %d"
                      " threads", at, threads[round]);
            }
        }
        CHECK(at == 74, "%d samples", at);
        ft__loader_destroy(loader);
        ft_destroy(m);
    }
}

/* ---- Real data ---- */

static ft_data *open_real(ft_model *m, const char *folder, ft_image_folder_options o)
{
    const char *data = getenv("FINETUNE_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/images/%s", data ? data : "../shared/data", folder);
    return ft_image_folder(m, path, o);
}

static bool real_data_there(void)
{
    const char *data = getenv("FINETUNE_DATA");
    char path[1024];
    FILE *file;
    snprintf(path, sizeof path, "%s/images/ants_bees/train/ants/formica.jpeg",
             data ? data : "../shared/data");
    file = fopen(path, "rb");
    if (file) fclose(file);
    return file != NULL;
}

static void test_real_data(void)
{
    ft_model *m;
    ft_data *data;
    ft_image_folder_options o = folder_options();
    static int part[1200];
    int held[12], i, j;
    if (!real_data_there()) {
        SKIP("FINETUNE_DATA is not there");
        return;
    }
    /* 244 photographs and a GIF that says that there is none; all of them can be decoded. */
    m = new_model(2, 1, preprocessing(3, 224, 224, 256));
    data = open_real(m, "ants_bees/train", o);
    CHECK(ft_data_count(data) == 245 && ft_data_skipped(data) == 0, "%d, %d, %s",
          ft_data_count(data), ft_data_skipped(data), ft_error_text(m));
    CHECK(ft_data_classes(data) == 2 && !strcmp(ft_data_class_name(data, 1), "bees"), "classes");
    ft_destroy(m);
    /* Tracks are not split; each class has some held back. */
    m = new_model(2, 1, preprocessing(3, 32, 32, 0));
    data = open_real(m, "traffic_signs_12/train", o);
    CHECK(ft_data_count(data) == 1200 && ft_data_classes(data) == 12, "%d, %s",
          ft_data_count(data), ft_error_text(m));
    CHECK(ft__split(data, 0.2f, 1, part), "%s", ft_error_text(m));
    memset(held, 0, sizeof held);
    for (i = 0; i < ft_data_count(data); ++i) held[ft_data_label(data, i)] += part[i];
    for (i = 0; i < 12; ++i) CHECK(held[i] >= 14 && held[i] <= 26, "class %d: %d", i, held[i]);
    for (i = 1; i < ft_data_count(data); ++i) {
        const char *a = ft_data_name(data, i - 1), *b = ft_data_name(data, i);
        size_t track = (size_t)(strrchr(a, '/') - a) + 6;
        if (!strncmp(a, b, track + 1)) CHECK(part[i] == part[i - 1], "%s and %s", a, b);
    }
    /* Loaded with two threads, and decoded again, as by get() alone. */
    o.cache_bytes = 1;
    o.per_class = 20;
    data = open_real(m, "cifar10_png/train", o);
    CHECK(ft_data_count(data) == 200 && ft_data_classes(data) == 10, "%d, %s",
          ft_data_count(data), ft_error_text(m));
    for (i = 0; i < ft_data_count(data); ++i) {
        static float x[3 * 32 * 32];
        ft_preprocessing p = preprocessing(3, 32, 32, 0);
        int32_t label = -1;
        CHECK(get_sample(data, &p, i, 0, x, &label) && label == i / 20, "%s",
              ft_data_name(data, i));
        for (j = 0; j < 3 * 32 * 32; ++j) if (!(x[j] >= -2.2f && x[j] <= 2.7f)) break;
        CHECK(j == 3 * 32 * 32, "%s: %g", ft_data_name(data, i), (double)x[j]);
    }
    ft_destroy(m);
}

int main(void)
{
    ft_desc desc;
    ft_weights_options options;
    ft_model *m;
    ft_file *file;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    m = ft_create(desc);
    file = ft_file_open(m, GOLDEN, options);
    CHECK(file != NULL, "%s", ft_error_text(m));
    if (file) {
        test_resize(file);
        test_preprocessing(file);
        test_decoding(file);
        test_local_colours(file);
        test_hostile_headers();
        make_tree(file);
        make_tracks();
        test_good_folder();
        test_wrong_folders(file);
        test_without_preprocessing();
        test_broken_files(file);
        test_match_classes();
        test_groups();
        test_per_class();
        test_cache();
        test_changed_file();
        test_same_as_prediction(file);
        test_no_memory();
        test_little_memory();
    }
    test_facts();
    test_inflating();
    test_arrays();
    test_left_out();
    test_split();
    test_shift_and_flip();
    test_crops();
    test_crop_values();
    test_augmented();
    test_loader_order(1, 10, 3);
    test_loader_order(2, 10, 3);
    test_loader_order(5, 1, 2);
    test_loader_order(5, 200, 2);
    test_loader_order(3, 7, 1);
    if (file) test_loader_folder();
    test_real_data();
    ft_file_close(file);
    ft_destroy(m);
    CHECK(system("rm -rf " ROOT) == 0, "rm");
    return check_done("test_data");
}
