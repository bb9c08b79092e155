/* test_formats.c - hostile files: real ones are read correctly; cut or damaged ones give a clear
   error or sensible tensors, never a crash. Run it under ASan for a full test. */
#include <dirent.h>
#include "public.h"
#include "onnx_cases.h"

static const float a_values[6] = {0, 0.25f, 0.5f, 0.75f, 1, 1.25f};
static bool quick; /* under the sanitizers: a sample of the damage */

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1};
    return ft_create(desc);
}

static char last_line[400];

static void keep_line(void *user, const char *line)
{
    (void)user;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static unsigned char *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    bytes = (unsigned char *)malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) *size = 0;
    fclose(file);
    return bytes;
}

static ft_file *open_path(ft_model *m, const char *name, bool map)
{
    char path[256];
    ft_weights_options options = {.map = map};
    snprintf(path, sizeof path, "tests/golden/formats/%s", name);
    return ft_file_open(m, path, options);
}

static void check_tensor(ft_model *m, ft_file *file, const char *name, const float *want,
                         size_t count)
{
    float got[16] = {0};
    int index = ft_file_find(file, name);
    CHECK(index >= 0, "%s is there", name);
    if (index < 0) return;
    CHECK(ft_file_read_f32(file, index, got, count) == FT_OK, "%s", ft_error_text(m));
    CHECK(memcmp(got, want, count * sizeof *want) == 0, "%s: %g %g %g", name, (double)got[0],
          (double)got[1], (double)got[2]);
}

/* ---- Real files ---- */

static void test_real(const char *name, int count)
{
    int map;
    for (map = 0; map < 2; ++map) {
        ft_model *m = new_model();
        ft_file *file = open_path(m, name, map == 1);
        CHECK(file, "%s: %s", name, ft_error_text(m));
        if (file) {
            CHECK(ft_file_count(file) == count, "%s: %d tensors", name, ft_file_count(file));
            check_tensor(m, file, "a", a_values, 6);
        }
        ft_file_close(file);
        ft_destroy(m);
    }
}

static void test_values(void)
{
    static const float i64[] = {-3, 1099511627776.0f}, i32[] = {-7, 7}, u8[] = {0, 255};
    static const float yes_no[] = {1, 0}, scalar[] = {2.5f}, part[] = {4, 5, 6, 7};
    static const float turned[] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}, column[] = {1, 5, 9};
    ft_model *m = new_model();
    ft_file *file = open_path(m, "types.pt", false);
    int64_t exact[2] = {0, 0};
    if (file) {
        check_tensor(m, file, "f16", a_values, 6);
        check_tensor(m, file, "bf16", a_values, 6);
        check_tensor(m, file, "f64", a_values, 6);
        check_tensor(m, file, "i64", i64, 2);
        check_tensor(m, file, "i32", i32, 2);
        check_tensor(m, file, "u8", u8, 2);
        check_tensor(m, file, "bool", yes_no, 2);
        check_tensor(m, file, "scalar", scalar, 1);
        check_tensor(m, file, "empty", scalar, 0);
        ft_file_read(file, ft_file_find(file, "i64"), exact, sizeof exact);
        CHECK(exact[0] == -3 && exact[1] == (int64_t)1 << 40, "int64 read as it is");
    }
    ft_file_close(file);
    file = open_path(m, "views.pt", false);
    if (file) {
        check_tensor(m, file, "part", part, 4);
        check_tensor(m, file, "turned", turned, 12);
        check_tensor(m, file, "column", column, 3);
    }
    ft_file_close(file);
    file = open_path(m, "plain.safetensors", false);
    CHECK(file && ft_file_metadata(file, "note")
          && !strcmp(ft_file_metadata(file, "note"), "a \"quoted\" \xc3\xa4 text"), "metadata");
    ft_file_close(file);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* The arrays of tests/golden/make_numpy.py: every type, both orders of bytes and of elements. */
static void check_arrays(ft_model *m, ft_file *file)
{
    static const float i8[] = {-3, 3}, u8[] = {0, 255}, yes_no[] = {1, 0}, i16[] = {-3, 300}, u16[] = {1, 65535};
    static const float i32[] = {-7, 7}, u32[] = {1, 2147483648.0f}, i64[] = {-3, 1099511627776.0f};
    static const float u64[] = {1, 9223372036854775808.0f}, scalar[] = {2.5f};
    static const char *const halves[] = {"f16", "f64", "f16_big", "f32_big"};
    float turned[24];
    int64_t exact[2] = {0, 0};
    int i;
    for (i = 0; i < 4; ++i) check_tensor(m, file, halves[i], a_values, 6);
    check_tensor(m, file, "i8", i8, 2);
    check_tensor(m, file, "u8", u8, 2);
    check_tensor(m, file, "bool", yes_no, 2);
    check_tensor(m, file, "i16", i16, 2);
    check_tensor(m, file, "u16", u16, 2);
    check_tensor(m, file, "i32", i32, 2);
    check_tensor(m, file, "u32", u32, 2);
    check_tensor(m, file, "i64", i64, 2);
    check_tensor(m, file, "i64_big", i64, 2);
    check_tensor(m, file, "u64", u64, 2);
    check_tensor(m, file, "scalar", scalar, 1);
    check_tensor(m, file, "empty", scalar, 0);
    check_tensor(m, file, "layer/0.weight", a_values, 3);
    CHECK(ft_file_read_f32(file, ft_file_find(file, "turned"), turned, 24) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < 24; ++i) CHECK(turned[i] == (float)i, "Fortran's order: %d is %g", i, (double)turned[i]);
    ft_file_read(file, ft_file_find(file, "i64_big"), exact, sizeof exact);
    CHECK(exact[0] == -3 && exact[1] == (int64_t)1 << 40, "int64 of the other order read as it is");
    CHECK(ft_file_tensor(file, ft_file_find(file, "u16")).type == FT_U16, "u2 is U16");
}

static void test_numpy(void)
{
    static const char *const files[] = {"np_types.npz", "np_deflated.npz"};
    static const char *const others[][2] = {
        {"objects", "Python objects"}, {"text", "strings"}, {"bytes", "strings"}, {"complex", "complex numbers"},
        {"dates", "dates"}, {"void", "without a type"}, {"structure", "structures"}, {"long", "unknown"}};
    unsigned char noise[2][400];
    int32_t run[3000];
    ft_model *m = new_model();
    ft_file *file;
    size_t i;
    float number;
    int map;
    for (i = 0; i < 2; ++i)
        for (map = 0; map < 2; ++map) {
            file = open_path(m, files[i], map == 1);
            CHECK(file && ft_file_count(file) == (i ? 21 : 20), "%s: %s", files[i], ft_error_text(m));
            if (file) check_arrays(m, file);
            ft_file_read(file, ft_file_find(file, "noise"), noise[i], sizeof noise[i]);
            if (i == 1) ft_file_read(file, ft_file_find(file, "run"), run, sizeof run);
            ft_file_close(file);
        }
    CHECK(ft_error(m) == FT_OK && !memcmp(noise[0], noise[1], sizeof noise[0]), "deflated noise: %s", ft_error_text(m));
    for (i = 0; i < 3000; ++i) CHECK(run[i] == (int32_t)i / 7, "deflated: %d is %d", (int)i, (int)run[i]);
    file = open_path(m, "np_v2.npy", false);
    if (file) check_tensor(m, file, "np_v2", a_values, 6);
    ft_file_close(file);
    file = open_path(m, "np_mixed.npz", false);
    if (file) check_tensor(m, file, "b", a_values + 3, 3);
    ft_file_close(file);
    file = open_path(m, "np_v3.npy", false);
    CHECK(file && ft_file_tensor(file, 0).type == FT_OTHER, "version 3: %s", ft_error_text(m));
    ft_file_close(file);
    file = open_path(m, "np_others.npz", false);
    for (i = 0; i < sizeof others / sizeof others[0]; ++i) {
        int index = ft_file_find(file, others[i][0]);
        CHECK(index >= 0 && ft_file_tensor(file, index).type == FT_OTHER
              && strstr(ft_file_tensor(file, index).type_name, others[i][1]), "%s", others[i][0]);
        CHECK(ft_file_read_f32(file, index, &number, ft_file_tensor(file, index).shape.rank == 0 ? 1
              : (size_t)ft_file_tensor(file, index).shape.size[0]) == FT_UNSUPPORTED
              && strstr(ft_error_text(m), others[i][0]) && strstr(ft_error_text(m), others[i][1]),
              "%s: %s", others[i][0], ft_error_text(m));
        ft_clear_error(m);
    }
    ft_file_close(file);
    ft_destroy(m);
}

/* Value i of a kernel that is arange / 4 as TensorFlow has it, [h, w, in, out], here [out, in, h, w]. */
static float turned_kernel(int i, const int *size)
{
    int w = i % size[3], h = i / size[3] % size[2], in = i / (size[3] * size[2]) % size[1];
    int out = i / (size[3] * size[2] * size[1]);
    return (float)(((h * size[3] + w) * size[1] + in) * size[0] + out) / 4;
}

static void test_bundles(void)
{
    static const float fc[] = {0, 0.75f, 0.25f, 1, 0.5f, 1.25f}, half[] = {0, 0.25f, 0.5f}, stem[] = {0, 0.5f, 1, 0.25f, 0.75f, 1.25f};
    ft_desc desc = {.threads = 1, .log = keep_line};
    ft_model *m = ft_create(desc);
    ft_file *file = open_path(m, "tf1.index", false);
    ft_parameter_options matrix = {.size = {2, 3}}, vector = {.size = {2}}, norm = {.size = {3}};
    ft_tensor_info t;
    float got[48];
    int i;
    CHECK(strstr(last_line, "4 slots"), "%s", last_line);
    t = ft_file_tensor(file, ft_file_find(file, "net.conv.weight"));
    ft_file_read_f32(file, ft_file_find(file, "net.conv.weight"), got, 48);
    CHECK(t.shape.rank == 4 && t.shape.size[0] == 4 && t.shape.size[1] == 2 && t.shape.size[2] == 2
          && t.shape.size[3] == 3, "a kernel's shape");
    for (i = 0; i < 48; ++i)
        CHECK(got[i] == turned_kernel(i, t.shape.size), "kernel: %d is %g", i, (double)got[i]);
    t = ft_file_tensor(file, ft_file_find(file, "net.depth.weight")); /* [2, 2, 3, 2] as [6, 1, 2, 2] */
    ft_file_read_f32(file, ft_file_find(file, "net.depth.weight"), got, 24);
    CHECK(t.shape.size[0] == 6 && t.shape.size[1] == 1, "a depthwise kernel's shape");
    for (i = 0; i < 24; ++i) CHECK(got[i] == (float)(i % 4 * 6 + i / 4) / 4, "depthwise: %d is %g", i, (double)got[i]);
    if (file) check_tensor(m, file, "net.fc.weight", fc, 6);
    if (file) check_tensor(m, file, "half", half, 3);
    ft_file_close(file);
    /* by the names that Keras had, into a network that is there */
    ft_parameter(m, "stem.weight", matrix);
    ft_parameter(m, "stem.bias", vector);
    ft_parameter(m, "norm.weight", norm);
    ft_load_weights(m, "tests/golden/formats/tf2.index", (ft_weights_options){.allow_unexpected = true});
    ft_get(m, ft_find(m, "stem.weight"), got, 6);
    CHECK(ft_error(m) == FT_OK && !memcmp(got, stem, sizeof stem), "%s", ft_error_text(m));
    file = open_path(m, "tf_same.index", false);
    CHECK(ft_file_find(file, "x/kernel") >= 0 && ft_file_tensor(file, 0).shape.rank == 1, "names that would be the same");
    ft_file_close(file);
    ft_destroy(m);
}

/* A file of TensorFlow's: four of its six kernels are those of the ONNX file, whose sums of number times
   (index modulo 97) these are; behind the two others a batch norm was folded there. */
static void test_savedmodel(void)
{
    static const struct { const char *name; double sum; int count; bool same; } kernels[] = {
        {"contours-reduced.weight", -119.29929732176242, 200, true}, {"conv2d_2.weight", 18.410076279571513, 1568, true},
        {"conv2d_3.weight", 2.775955463803257, 672, true}, {"conv2d_5.weight", -30.17847545564291, 297, true},
        {"conv2d_1.weight", -36.21351245024289, 7488, false}, {"conv2d_4.weight", 687.2748388199216, 6400, false}};
    static float values[7488];
    const char *data = getenv("FINETUNE_DATA");
    char path[400];
    ft_model *m = new_model();
    ft_file *file;
    size_t i;
    int k;
    snprintf(path, sizeof path, "%s/formats/basic_pitch_savedmodel/variables/variables.index", data ? data : "");
    if (!data || access(path, R_OK) != 0) {
        SKIP("needs FINETUNE_DATA/formats");
        ft_destroy(m);
        return;
    }
    file = ft_file_open(m, path, (ft_weights_options){0});
    CHECK(file && ft_file_count(file) == 24, "%s", ft_error_text(m));
    for (i = 0; i < 6; ++i) {
        double sum = 0;
        int count = kernels[i].count;
        ft_file_read_f32(file, ft_file_find(file, kernels[i].name), values, (size_t)count);
        for (k = 0; k < count; ++k) sum += (double)values[k] * (k % 97);
        CHECK((fabs(sum - kernels[i].sum) < 1e-9) == kernels[i].same, "%s: %.17g", kernels[i].name, sum);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
}

/* Bundles whose index is cut or flipped, beside data that are whole. */
static void test_damaged_bundle(const char *name)
{
    static const char index[] = "build/damaged.index", data[] = "build/damaged.data-00000-of-00001";
    char path[256];
    size_t size = 0, data_size = 0, at;
    unsigned char *bytes, *content;
    FILE *file;
    int bit;
    snprintf(path, sizeof path, "tests/golden/formats/%s.data-00000-of-00001", name);
    content = read_all(path, &data_size);
    snprintf(path, sizeof path, "tests/golden/formats/%s.index", name);
    bytes = read_all(path, &size);
    file = fopen(data, "wb");
    CHECK(bytes && content && file && fwrite(content, 1, data_size, file) == data_size && fclose(file) == 0, "%s", data);
    for (at = 0; bytes && at < size; at += quick ? 37 : 1)
        for (bit = 0; bit < 8; bit += 3) {
            ft_model *m = new_model();
            ft_file *damaged;
            ft_weights_options options = {.memory = bytes, .bytes = bit ? size : at};
            if (bit) bytes[at] ^= (unsigned char)(1 << bit);
            damaged = ft_file_open(m, index, options);
            CHECK((damaged != NULL) == (ft_error(m) == FT_OK), "%s at %zu", name, at);
            ft_file_close(damaged);
            ft_destroy(m);
            if (bit) bytes[at] ^= (unsigned char)(1 << bit);
        }
    remove(data);
    free(content);
    free(bytes);
}

static ft_file *open_written(ft_model *m, const char *path)
{
    return ft_file_open(m, path, (ft_weights_options){0});
}

/* The same names, types, shapes and bytes, in any order of the tensors. */
static void check_same(ft_file *a, ft_file *b, const char *what)
{
    int i;
    CHECK(a && b && ft_file_count(a) == ft_file_count(b), "%s: as many tensors", what);
    for (i = 0; a && b && i < ft_file_count(a); ++i) {
        ft_tensor_info t = ft_file_tensor(a, i), u = ft_file_tensor(b, ft_file_find(b, t.name));
        unsigned char x[16384], y[16384];
        size_t bytes = (size_t)t.bytes;
        bool same = t.type == u.type && t.bytes == u.bytes && bytes <= sizeof x
            && !memcmp(&t.shape, &u.shape, sizeof t.shape)
            && ft_file_read(a, i, x, bytes) == FT_OK
            && ft_file_read(b, ft_file_find(b, t.name), y, bytes) == FT_OK;
        CHECK(same && !memcmp(x, y, bytes), "%s: %s", what, t.name);
    }
}

/* Every format that is read, in every one that is written: nothing changes. */
static void test_conversions(void)
{
    static const char npz[] = "build/converted.npz", st[] = "build/converted.safetensors", npy[] = "build/converted.npy";
    static const char *const files[] = {"np_types.npz", "np_deflated.npz", "views.pt", "legacy.pt", "a.npy"};
    ft_model *m = new_model();
    ft_file *from, *first, *second;
    const char *note;
    size_t i;
    for (i = 0; i < sizeof files / sizeof files[0]; ++i) {
        from = open_path(m, files[i], false);
        ft_file_save(from, npz, (ft_save_options){0});
        first = open_written(m, npz);
        ft_file_save(first, st, (ft_save_options){0});
        second = open_written(m, st);
        check_same(from, first, files[i]);
        check_same(from, second, files[i]);
        ft_file_close(second);
        ft_file_close(first);
        if (ft_file_count(from) == 1) {
            ft_file_save(from, npy, (ft_save_options){0});
            first = open_written(m, npy);
            if (first) check_tensor(m, first, "converted", a_values, 6);
            ft_file_close(first);
        }
        ft_file_close(from);
        CHECK(ft_error(m) == FT_OK, "%s: %s", files[i], ft_error_text(m));
    }
    from = open_path(m, "plain.safetensors", false); /* it has bf16, which NumPy does not */
    CHECK(ft_file_save(from, npz, (ft_save_options){0}) == FT_UNSUPPORTED && strstr(ft_error_text(m), "bf16")
          && strstr(ft_error_text(m), "BF16"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_file_save(from, npz, (ft_save_options){.widen = true}) == FT_OK, "%s", ft_error_text(m));
    first = open_written(m, npz);
    note = ft_file_metadata(first, "note");
    CHECK(note && !strcmp(note, "a \"quoted\" \xc3\xa4 text") && ft_file_count(first) == 6, "metadata in .npz");
    CHECK(ft_file_tensor(first, ft_file_find(first, "bf16")).type == FT_F32
          && ft_file_tensor(first, ft_file_find(first, "i64")).type == FT_I64, "widened, but not integers");
    if (first) check_tensor(m, first, "bf16", a_values, 6);
    ft_file_save(first, st, (ft_save_options){.type = FT_F16});
    second = open_written(m, st);
    note = ft_file_metadata(second, "note");
    CHECK(note && !strcmp(note, "a \"quoted\" \xc3\xa4 text"), "and back");
    CHECK(ft_file_tensor(second, ft_file_find(second, "a")).type == FT_F16, "as F16: %s", ft_error_text(m));
    if (second) check_tensor(m, second, "a", a_values, 6);
    ft_file_close(second);
    CHECK(ft_file_save(first, npy, (ft_save_options){0}) == FT_UNSUPPORTED && strstr(ft_error_text(m), "6 tensors"),
          "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_file_save(first, npz, (ft_save_options){.weights_only = true});
    ft_file_close(first);
    first = open_written(m, npz);
    CHECK(first && !ft_file_metadata(first, "note") && ft_file_count(first) == 6, "without metadata");
    ft_file_close(first);
    ft_file_close(from);
    from = open_path(m, "np_others.npz", false);
    CHECK(ft_file_save(from, st, (ft_save_options){0}) == FT_UNSUPPORTED && strstr(ft_error_text(m), "objects"),
          "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_file_save(from, "build/x.pth", (ft_save_options){0}) == FT_UNSUPPORTED
          && ft_file_save(NULL, npz, (ft_save_options){0}) == FT_INVALID, "a name of another format; NULL");
    ft_clear_error(m);
    ft_file_close(from);
    ft_destroy(m);
    remove(npz);
    remove(st);
    remove(npy);
}

/* A model in a .npz file is whole: its network, its names and what is frozen. */
static void test_npz_model(void)
{
    static const char npz[] = "build/model.npz";
    static const char *const names[] = {"cat", "d\xc3\xb6g", "\"x\""};
    ft_model *m = new_model(), *again = new_model();
    ft_network_options network = {.classes = 3, .image_size = 32};
    static float x[3 * 32 * 32], want[3], got[3];
    int i;
    for (i = 0; i < 3 * 32 * 32; ++i) x[i] = (float)(i % 11) * 0.2f - 1;
    ft_network(m, "keras_cnn", network);
    ft_set_class_names(m, 3, names);
    ft_freeze(m, "conv*");
    ft_run(m, x, 1, want, 3);
    ft_save(m, npz, (ft_save_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_load(again, npz, (ft_load_options){0});
    ft_run(again, x, 1, got, 3);
    CHECK(ft_error(again) == FT_OK && !memcmp(want, got, sizeof want), "%s", ft_error_text(again));
    CHECK(ft_class_name(again, 1) && !strcmp(ft_class_name(again, 1), names[1]), "class names");
    CHECK(ft_frozen_digest(m).frozen == ft_frozen_digest(again).frozen && ft_frozen_digest(again).tensors > 0, "frozen");
    ft_clear_error(m);
    CHECK(ft_save(m, npz, (ft_save_options){.type = FT_BF16}) == FT_UNSUPPORTED, "bf16 in NumPy");
    ft_destroy(again);
    ft_destroy(m);
    remove(npz);
}

/* Opens what must not open; the error names the file and says `word`. */
static void test_refused(const char *name, const char *word)
{
    ft_model *m = new_model();
    ft_file *file = open_path(m, name, false);
    CHECK(!file && ft_error(m) != FT_OK, "%s was opened", name);
    CHECK(strstr(ft_error_text(m), name) && strstr(ft_error_text(m), word), "%s: \"%s\"", name,
          ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
}

static void test_evil(void)
{
    FILE *trace;
    remove("build/evil-was-here");
    test_real("evil.pt", 1);
    test_refused("evil_only.pt", "state_dict");
    trace = fopen("build/evil-was-here", "r");
    CHECK(!trace, "a pickle was executed");
    if (trace) fclose(trace);
}

/* What a file says of itself besides what the library writes is there again after load and save. */
static void test_notes(void)
{
    static const char from[] = "build/output_notes.safetensors", to[] = "build/output_again.safetensors";
    static const char *const notes[] = {"source", "https://example.org/\"w\"", "licence", "CC BY 4.0"};
    ft_model *m = new_model(), *again = new_model();
    ft_network_options network;
    ft_file *file;
    int i;
    memset(&network, 0, sizeof network);
    network.hidden = network.layers = 1;
    network.words = 3;
    ft_network(m, "char_rnn", network);
    write_weights(m, from, true, "{\"source\":\"https://example.org/\\\"w\\\"\",\"licence\":\"CC BY 4.0\"}");
    ft_load(again, from, (ft_load_options){.architecture = "char_rnn", .network = network});
    ft_save(again, to, (ft_save_options){.type = FT_F16});
    CHECK(ft_error(again) == FT_OK, "%s", ft_error_text(again));
    file = ft_file_open(m, to, (ft_weights_options){0});
    for (i = 0; file && i < 2; ++i) {
        const char *text = ft_file_metadata(file, notes[2 * i]);
        CHECK(text && !strcmp(text, notes[2 * i + 1]), "%s: %s", notes[2 * i], text ? text : "gone");
    }
    CHECK(file && ft_file_metadata(file, "finetune"), "and our own: %s", ft_error_text(m));
    ft_file_close(file);
    ft_destroy(again);
    ft_destroy(m);
    remove(from);
    remove(to);
}

/* A name of another format is refused before anything is written. */
static void test_names(void)
{
    static const char *const wrong[] = {"m.pt", "m.pth", "m.tflite", "m.ckpt", "m.gguf", "a/m.bin"};
    ft_model *m = new_model();
    size_t i;
    ft_input(m, "input", (ft_input_options){.size = {3}});
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        CHECK(ft_save(m, wrong[i], (ft_save_options){.type = FT_F32}) == FT_UNSUPPORTED
              && strstr(ft_error_text(m), wrong[i]) && strstr(ft_error_text(m), ".safetensors"),
              "%s: %s", wrong[i], ft_error_text(m));
        ft_clear_error(m);
    }
    CHECK(!ft_other_format("m.safetensors") && !ft_other_format("model") && !ft_other_format(NULL)
          && !strcmp(ft_other_format("x.y.pth"), "PyTorch"), "names");
    ft_destroy(m);
}

/* ---- Damage ---- */

/* Opens damaged bytes and reads all that is listed. The bytes lie at the end of a block of their own,
   so that a sanitizer sees a read behind them. */
static void open_damaged(const unsigned char *bytes, size_t size, const char *what, size_t where)
{
    ft_model *m = new_model();
    unsigned char *copy = (unsigned char *)malloc(size ? size : 1);
    ft_weights_options options = {.bytes = size};
    ft_file *file;
    int i;
    memcpy(copy, bytes, size);
    options.memory = copy;
    file = ft_file_open(m, NULL, options);
    CHECK((file != NULL) == (ft_error(m) == FT_OK), "%s at %zu: no file and no error", what, where);
    CHECK(file || *ft_error_text(m), "%s at %zu: an error without a text", what, where);
    for (i = 0; file && i < ft_file_count(file); ++i) {
        ft_tensor_info t = ft_file_tensor(file, i);
        size_t count = 1;
        float *to;
        int d;
        for (d = 0; d < t.shape.rank && count <= 1u << 20; ++d) count *= (size_t)t.shape.size[d];
        if (count > 1u << 20) continue;
        to = (float *)malloc((count + 1) * sizeof *to);
        ft_file_read_f32(file, i, to, count);
        free(to);
    }
    ft_file_close(file);
    free(copy);
    ft_destroy(m);
}

static void test_damaged(const char *name)
{
    char path[256];
    size_t size = 0, at, step = quick ? 37 : 1;
    unsigned char *bytes;
    int bit;
    snprintf(path, sizeof path, "tests/golden/formats/%s", name);
    bytes = read_all(path, &size);
    CHECK(bytes && size, "%s", path);
    for (at = 0; bytes && at < size; at += step) open_damaged(bytes, at, name, at);
    for (at = 0; bytes && at < size; at += step)
        for (bit = 0; bit < 8; bit += quick ? 3 : 1) {
            bytes[at] ^= (unsigned char)(1 << bit);
            open_damaged(bytes, size, name, at);
            bytes[at] ^= (unsigned char)(1 << bit);
        }
    free(bytes);
}

/* Whether a run takes no more than 3 * 32 * 32 numbers and gives no more than 64. */
static bool is_small(const ft_model *m)
{
    ft_node node;
    int inputs = 0;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        if (strcmp(ft_node_operator(m, node), "input") != 0) continue;
        if (numbers_of(m, node) > 3 * 32 * 32) return false;
        inputs += 1;
    }
    return inputs > 0 && ft_output(m).id && ft_class_count(m) <= 64
        && numbers_of(m, ft_output(m)) <= 64;
}

/* A model file's network description, damaged byte by byte: loading it may fail, running not. */
static void test_damaged_model(void)
{
    static float x[3 * 32 * 32], y[64];
    ft_model *m = new_model();
    ft_network_options options = {.classes = 3, .width = 0.25f, .image_size = 32};
    ft_save_options half = {.type = FT_BF16};
    unsigned char *bytes;
    size_t size = 0, header, at;
    ft_network(m, "mobilenet_v1", options);
    ft_save(m, "build/damaged.safetensors", half);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    bytes = read_all("build/damaged.safetensors", &size);
    for (header = 0, at = 8; at-- > 0;) header = header << 8 | bytes[at];
    for (at = 8; at < 8 + header; at += quick ? 211 : 13) {
        ft_load_options load = {.network = {.classes = 0}};
        unsigned char kept = bytes[at];
        static const char letters[] = "0-9\"]{";
        load.weights.memory = bytes;
        load.weights.bytes = size;
        bytes[at] = (unsigned char)letters[at % (sizeof letters - 1)];
        m = new_model();
        if (ft_load(m, NULL, load) == FT_OK && is_small(m))
            ft_run(m, x, 1, y, numbers_of(m, ft_output(m)));
        CHECK(ft_error(m) == FT_OK || *ft_error_text(m), "byte %zu", at);
        ft_destroy(m);
        bytes[at] = kept;
    }
    free(bytes);
    remove("build/damaged.safetensors");
}

/* ---- Writing ---- */

typedef struct disk { size_t room; bool no_close, no_rename; } disk;

static void *disk_open(void *user, const char *path, bool write)
{
    (void)user;
    return fopen(path, write ? "wb" : "rb");
}

static int64_t disk_size(void *user, void *file)
{
    (void)user;
    return fseek((FILE *)file, 0, SEEK_END) == 0 ? (int64_t)ftell((FILE *)file) : -1;
}

static size_t disk_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    return fseek((FILE *)file, (long)offset, SEEK_SET) == 0 ? fread(to, 1, bytes, (FILE *)file) : 0;
}

static size_t little_room(void *user, void *file, const void *from, size_t bytes)
{
    disk *d = (disk *)user;
    size_t fits = bytes < d->room ? bytes : d->room;
    d->room -= fits;
    return fwrite(from, 1, fits, (FILE *)file);
}

static bool bad_close(void *user, void *file)
{
    return fclose((FILE *)file) == 0 && !((disk *)user)->no_close;
}

static bool bad_rename(void *user, const char *from, const char *to)
{
    return !((disk *)user)->no_rename && rename(from, to) == 0;
}

static bool disk_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) == 0;
}

/* Files that a save left beside build/disk.safetensors. */
static int leftovers(void)
{
    DIR *folder = opendir("build");
    struct dirent *entry;
    int count = 0;
    while (folder && (entry = readdir(folder)) != NULL)
        count += !strncmp(entry->d_name, "disk.safetensors.", 17);
    if (folder) closedir(folder);
    return folder ? count : -1;
}

/* Saves a small model where the disk fails; the old file must stay, and nothing half-written. */
static void save_on(disk d, bool expected, const char *what)
{
    const char *path = "build/disk.safetensors";
    ft_desc desc = {.threads = 1, .files = {
        .user = &d, .open = disk_open, .size = disk_size, .read = disk_read, .write = little_room,
        .close = bad_close, .rename = bad_rename, .remove = disk_remove}};
    ft_parameter_options p = {.size = {40, 12}};
    ft_save_options save = {.type = FT_F32};
    FILE *file = fopen(path, "wb");
    unsigned char *bytes;
    size_t size = 0;
    ft_model *m;
    fputs("the old file", file);
    fclose(file);
    m = ft_create(desc);
    ft_parameter(m, "p", p);
    ft_save(m, path, save);
    CHECK((ft_error(m) == FT_OK) == expected, "%s: %s", what, ft_error_text(m));
    CHECK(expected || strstr(ft_error_text(m), path), "%s: \"%s\"", what, ft_error_text(m));
    bytes = read_all(path, &size);
    CHECK(expected ? size > 1000 : size == 12 && !memcmp(bytes, "the old file", 12),
          "%s: the old file is gone", what);
    free(bytes);
    CHECK(leftovers() == 0, "%s: half a file is left", what);
    ft_destroy(m);
    remove(path);
}

static void test_disk(void)
{
    disk fine = {(size_t)1 << 30, false, false}, no_close = fine, no_rename = fine;
    size_t room;
    save_on(fine, true, "a good disk");
    no_close.no_close = no_rename.no_rename = true;
    save_on(no_close, false, "a disk that cannot sync");
    save_on(no_rename, false, "a disk that cannot rename");
    for (room = 0; room < 2000; room += 97) {
        disk full = {room, false, false};
        save_on(full, false, "a full disk");
    }
}

/* ---- Names that do not match ---- */

/* `word` is in the error, or, where there is none, in the log. */
static void expect_load(const char *what, ft_weights_options options, ft_status status,
                        const char *word)
{
    ft_desc desc = {.log = keep_line};
    ft_model *m = ft_create(desc);
    ft_parameter_options right = {.size = {2, 3}}, wrong = {.size = {3, 2}}, more = {.size = {4}};
    ft_parameter(m, strstr(what, "renamed") ? "new.a" : "a", strstr(what, "shape") ? wrong : right);
    if (strstr(what, "missing")) ft_parameter(m, "missing", more);
    ft_load_weights(m, "tests/golden/formats/ordered.pt", options);
    CHECK(ft_error(m) == status, "%s: %s", what, ft_error_text(m));
    if (status == FT_OK) CHECK(word && strstr(last_line, word), "%s: \"%s\"", what, last_line);
    else CHECK(strstr(ft_error_text(m), word), "%s: \"%s\"", what, ft_error_text(m));
    ft_destroy(m);
}

static void test_matching(void)
{
    ft_weights_options strict = {.map = false}, loose = {.allow_unexpected = true}, all = loose;
    ft_weights_options renamed = {.rename = "a=new.a,b=unused", .allow_unexpected = true};
    all.allow_missing = all.allow_mismatched = true;
    expect_load("unexpected", strict, FT_MISMATCH, "b [3]");
    expect_load("fine", loose, FT_OK, "1 tensors are not in the network, which is allowed: b [3]");
    expect_load("missing", loose, FT_MISMATCH, "missing [4]");
    expect_load("missing, allowed", (ft_weights_options){.rename = "b=missing", .allow_missing = true,
        .allow_mismatched = true}, FT_OK, "missing");
    expect_load("shape", loose, FT_MISMATCH, "a [2, 3] instead of [3, 2]");
    expect_load("shape, allowed", all, FT_OK, "b [3]");
    expect_load("renamed", renamed, FT_OK, "unused [3]");
}

/* ---- ONNX: small graphs, beside what ONNX Runtime gives of them (golden/make_onnx.py) ---- */

enum { MOST_ONNX = 4096 };

/* A tensor of the golden file as bytes, to be freed; NULL: there is none. */
static unsigned char *golden_bytes(ft_file *file, const char *name, const char *key, int number, size_t *bytes)
{
    char path[128];
    unsigned char *content;
    int index;
    snprintf(path, sizeof path, number < 0 ? "%s/%s" : "%s/%s%d", name, key, number);
    index = ft_file_find(file, path);
    if (index < 0) return NULL;
    *bytes = (size_t)ft_file_tensor(file, index).bytes;
    content = (unsigned char *)calloc(*bytes + 1, 1);
    ft_file_read(file, index, content, *bytes);
    return content;
}

/* The outputs: the model's, and those that have a name. A softmax at the end is left to prediction. */
static void check_onnx_outputs(ft_model *m, ft_file *golden, const char *name)
{
    static const char *const names[] = {"y", "z"};
    static float got[MOST_ONNX];
    bool softmax = !strcmp(name, "softmax_head"), logs = !strcmp(name, "log_softmax_head");
    int k;
    size_t bytes, i, j;
    unsigned char *want;
    for (k = 0; (want = golden_bytes(golden, name, "out", k, &bytes)) != NULL; ++k) {
        ft_node node = k ? ft_find(m, names[k]) : ft_output(m);
        const float *values = (const float *)(const void *)want;
        size_t count = bytes / 4, row = softmax || logs ? (size_t)ft_node_shape(m, node).size[
            ft_node_shape(m, node).rank - 1] : 1;
        double largest = 0, worst = 0;
        bool same = node.id && count <= MOST_ONNX && onnx_numbers(m, node) == count && ft_get(m, node, got, count) == FT_OK;
        CHECK(same, "%s: output %d: %s", name, k, ft_error_text(m));
        for (i = 0; same && (softmax || logs) && i < count; i += row) {
            double sum = 0;
            for (j = i; j < i + row; ++j) sum += exp((double)got[j]);
            for (j = i; j < i + row; ++j) got[j] = (float)(logs ? (double)got[j] - log(sum) : exp((double)got[j]) / sum);
        }
        for (i = 0; same && i < count; ++i) {
            worst = worse(worst, fabs((double)got[i] - (double)values[i]));
            if (fabs((double)values[i]) > largest) largest = fabs((double)values[i]);
        }
        CHECK(!same || (largest > 0.1 && worst <= 1e-5 * largest), "%s: output %d is off by %g of %g", name, k, worst, largest);
        free(want);
    }
    CHECK(k > 0, "%s has no outputs", name);
}

/* Loads a case, feeds its inputs and compares; or it must be refused with all these texts. */
static void check_onnx_case(ft_file *golden, const char *name)
{
    ft_model *m = new_model();
    ft_load_options load = {.no_new_head = false};
    unsigned char *file, *texts, *values;
    char *text;
    ft_node node;
    ft_status expected;
    size_t bytes;
    int k = 0;
    file = golden_bytes(golden, name, "file", -1, &load.weights.bytes);
    texts = golden_bytes(golden, name, "refused", -1, &bytes);
    load.weights.memory = file;
    ft_load(m, "case.onnx", load);
    expected = !texts ? FT_OK : strstr((char *)texts, "damaged") ? FT_FORMAT : FT_UNSUPPORTED;
    CHECK(ft_error(m) == expected, "%s: %s", name, ft_error_text(m));
    for (text = texts ? strtok((char *)texts, "|") : NULL; text; text = strtok(NULL, "|"))
        CHECK(strstr(ft_error_text(m), text), "%s: not \"%s\" but %s", name, text, ft_error_text(m));
    if (!texts && !ft_error(m)) {
        ft_set_length(m, CASE_STEPS);
        for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
            bool labels = !strcmp(ft_node_name(m, node), "labels");
            if (ft_find(m, "z").id) ft_keep(m, ft_find(m, "z"));
            if (strcmp(ft_node_operator(m, node), "input") || labels) continue;
            values = golden_bytes(golden, name, "in", k++, &bytes);
            CHECK(values && bytes == 4 * onnx_numbers(m, node), "%s: input %d has another size", name, k);
            if (values) CHECK(ft_feed(m, node, values, CASE_BATCH) == FT_OK, "%s: %s", name, ft_error_text(m));
            free(values);
        }
        ft_forward(m, false);
        check_onnx_outputs(m, golden, name);
    }
    ft_destroy(m);
    free(texts);
    free(file);
}

/* All cases of a file; returns how many. */
static int check_onnx_cases(const char *path)
{
    ft_model *m = new_model();
    ft_file *golden = ft_file_open(m, path, (ft_weights_options){.map = false});
    int i, cases = 0;
    for (i = 0; i < ft_file_count(golden); ++i) {
        const char *name = ft_file_tensor(golden, i).name, *end = strstr(name, "/file");
        char one[80];
        if (!end || end[5]) continue;
        snprintf(one, sizeof one, "%.*s", (int)(end - name), name);
        check_onnx_case(golden, one);
        cases += 1;
    }
    ft_file_close(golden);
    ft_destroy(m);
    return cases;
}

static void test_onnx(void)
{
    int cases = check_onnx_cases("tests/golden/onnx.safetensors"), masks = check_onnx_cases("tests/golden/onnx_masks.safetensors");
    int operators = check_onnx_cases("tests/golden/onnx_operators.safetensors");
    CHECK(cases >= 138 && masks >= 15, "%d cases of ONNX, and %d of masks", cases, masks);
    CHECK(operators >= 65, "%d cases of other operators", operators);
}

/* ---- ONNX files that we write (tests/test_onnx.sh runs them in ONNX Runtime) ---- */

static unsigned char *find_bytes(unsigned char *bytes, size_t size, const char *text)
{
    size_t i, length = strlen(text);
    for (i = 0; bytes && i + length <= size; ++i)
        if (memcmp(bytes + i, text, length) == 0) return bytes + i;
    return NULL;
}

/* The output's numbers; integers become floats, as the places of a TopK that was read. */
static bool onnx_output(ft_model *m, float *numbers, size_t count)
{
    size_t i;
    if (ft_get(m, ft_output(m), numbers, count) != FT_OK) return false;
    for (i = 0; ft_node_type(m, ft_output(m)) == FT_I32 && i < count; ++i) {
        int32_t whole;
        memcpy(&whole, &numbers[i], sizeof whole);
        numbers[i] = (float)whole;
    }
    return true;
}

/* Runs both on the same inputs, in their order, and compares. */
static void check_onnx_again(ft_model *m, ft_model *again, const char *name)
{
    static float floats[CASE_NUMBERS], got[CASE_NUMBERS], want[CASE_NUMBERS];
    static int32_t integers[CASE_NUMBERS];
    double worst = 0, largest = 0;
    size_t count = onnx_numbers(m, ft_output(m)), i;
    ft_node node, other;
    int k;
    ft_set_length(m, CASE_STEPS);
    ft_set_length(again, CASE_STEPS);
    for (k = 0; (node = onnx_input(m, k)).id; ++k) {
        bool whole = ft_node_type(m, node) == FT_I32;
        other = onnx_input(again, k);
        draw_onnx_input(m, node, floats, integers);
        if (!strcmp(ft_node_operator(m, node), "state")) continue;
        ft_feed(m, node, whole ? (void *)integers : (void *)floats, CASE_BATCH);
        if (ft_node_type(again, other) == FT_F32)
            for (i = 0; whole && i < onnx_numbers(m, node); ++i) floats[i] = (float)integers[i];
        ft_feed(again, other, ft_node_type(again, other) == FT_I32 ? (void *)integers : (void *)floats, CASE_BATCH);
    }
    ft_forward(m, false);
    ft_forward(again, false);
    CHECK(onnx_numbers(again, ft_output(again)) == count && onnx_output(m, want, count)
          && onnx_output(again, got, count), "%s: %s%s", name, ft_error_text(m), ft_error_text(again));
    for (i = 0; i < count; ++i) {
        worst = worse(worst, fabs((double)got[i] - (double)want[i]));
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    }
    CHECK(worst <= 1e-5 * largest, "%s: read back, off by %g of %g", name, worst, largest);
}

/* ---- A small reader of protobuf for the test alone ---- */

typedef struct pb { const unsigned char *at, *end; int field, wire; uint64_t number; const unsigned char *bytes; size_t size; } pb;

static uint64_t pb_number(pb *p)
{
    uint64_t number = 0;
    int shift = 0;
    while (p->at < p->end && shift < 64) {
        number |= (uint64_t)(*p->at & 127) << shift;
        shift += 7;
        if (*p->at++ < 128) return number;
    }
    p->at = p->end + 1;
    return 0;
}

/* The next field; false at the end, which `at` is then past if the bytes are no message. */
static bool pb_next(pb *p)
{
    uint64_t key;
    if (p->at >= p->end) return false;
    key = pb_number(p);
    p->field = (int)(key >> 3);
    p->wire = (int)(key & 7);
    p->size = 0;
    p->bytes = p->at;
    if (p->wire == 0) p->number = pb_number(p);
    else if (p->wire == 5) p->size = 4;
    else if (p->wire == 2) {
        p->size = (size_t)pb_number(p);
        p->bytes = p->at;
    } else p->size = SIZE_MAX / 2;
    if (p->at > p->end || p->size > (size_t)(p->end - p->at)) return p->at = p->end + 1, false;
    p->at += p->size;
    return true;
}

static pb pb_inside(const pb *p)
{
    pb inside;
    memset(&inside, 0, sizeof inside);
    inside.at = p->bytes;
    inside.end = p->bytes + p->size;
    return inside;
}

enum { MOST_NAMES = 6000 };
typedef struct pb_names { char names[MOST_NAMES][160]; int count; } pb_names;

static bool pb_known(const pb_names *n, const pb *text)
{
    int i;
    for (i = 0; i < n->count; ++i)
        if (strlen(n->names[i]) == text->size && !memcmp(n->names[i], text->bytes, text->size)) return true;
    return false;
}

/* Adds a name that must be new. */
static bool pb_add(pb_names *n, const pb *text)
{
    if (pb_known(n, text) || n->count >= MOST_NAMES || text->size >= 160) return false;
    memcpy(n->names[n->count], text->bytes, text->size);
    n->names[n->count++][text->size] = 0;
    return true;
}

/* Whether these are the numbers of a matrix column by column, as GPT-2's files have them. */
static bool pb_is_transposed(ft_shape s, const float *values, const unsigned char *raw)
{
    int i, k;
    for (i = 0; s.rank == 2 && i < s.size[0]; ++i)
        for (k = 0; k < s.size[1]; ++k)
            if (memcmp(&values[i * s.size[1] + k], raw + 4 * (k * s.size[0] + i), 4)) return false;
    return s.rank == 2;
}

/* A TensorProto: as many bytes as its sizes say; a weight of the model has its numbers. */
static bool pb_tensor(ft_model *m, pb p, pb_names *known)
{
    static float values[CASE_NUMBERS];
    uint64_t count = 1, type = 0;
    size_t bytes = 0;
    const unsigned char *raw = NULL;
    char name[160] = "";
    ft_node node;
    bool good = true;
    while (pb_next(&p)) {
        if (p.field == 1) count *= p.number;
        if (p.field == 2) type = p.number;
        if (p.field == 8) {
            good = good && pb_add(known, &p);
            snprintf(name, sizeof name, "%.*s", (int)p.size, (const char *)p.bytes);
        }
        if (p.field == 9) {
            bytes = p.size;
            raw = p.bytes;
        }
    }
    node = ft_find(m, name);
    if (node.id && good && raw && bytes == 4 * count && count == onnx_numbers(m, node)
        && ft_get(m, node, values, (size_t)count) == FT_OK)
        good = memcmp(values, raw, bytes) == 0 || pb_is_transposed(ft_node_shape(m, node), values, raw);
    return good && p.at == p.end && *name && bytes == count * (type == 1 ? 4 : type == 7 ? 8 : 0);
}

/* A NodeProto: a name and an operator; each input is known, each output is new. */
static bool pb_node(pb p, pb_names *known)
{
    bool good = true, named = false, op = false;
    while (pb_next(&p)) {
        if (p.field == 1 && p.size) good = good && pb_known(known, &p);
        if (p.field == 2 && p.size) good = good && pb_add(known, &p);
        named = named || (p.field == 3 && p.size);
        op = op || (p.field == 4 && p.size);
        good = good && p.field != 7; /* no other domain */
    }
    return good && named && op && p.at == p.end;
}

/* A whole file; `name` for messages. */
static void check_onnx_structure(ft_model *m, const unsigned char *bytes, size_t size, const char *name)
{
    static pb_names known;
    pb p, graph, q;
    uint64_t version = 0, opset = 0;
    int outputs = 0, graphs = 0;
    memset(&p, 0, sizeof p);
    p.at = bytes;
    p.end = bytes + size;
    graph = p;
    while (pb_next(&p)) {
        if (p.field == 1) version = p.number;
        if (p.field == 8)
            for (q = pb_inside(&p); pb_next(&q);)
                if (q.field == 2) opset = q.number;
        if (p.field == 7) {
            graph = pb_inside(&p);
            graphs += 1;
        }
    }
    CHECK(p.at == p.end && graphs == 1 && version == 8 && opset == 17, "%s: not a model of opset 17", name);
    known.count = 0;
    for (q = graph; pb_next(&q);) {
        pb info = pb_inside(&q);
        if (q.field == 5) CHECK(pb_tensor(m, pb_inside(&q), &known), "%s: initialiser %d", name, known.count);
        if (q.field == 11) CHECK(pb_next(&info) && info.field == 1 && pb_add(&known, &info), "%s: input", name);
    }
    for (p = graph; pb_next(&p);)
        if (p.field == 1) CHECK(pb_node(pb_inside(&p), &known), "%s: the node before name %d", name, known.count);
    CHECK(p.at == p.end && q.at == q.end, "%s: the graph ends within a field", name);
    for (q = graph; pb_next(&q);) {
        pb info = pb_inside(&q);
        if (q.field != 12) continue;
        CHECK(pb_next(&info) && info.field == 1 && pb_known(&known, &info), "%s: output", name);
        outputs += 1;
    }
    CHECK(outputs > 0, "%s: no output", name);
}

/* Reads a file that was written of a model. `unread`: our reader may not know some of its nodes; then it says
   which. */
static void check_onnx_file(ft_model *m, const unsigned char *bytes, size_t size, const char *name, bool by_nodes, bool unread)
{
    ft_load_options load = {.weights.memory = bytes, .weights.bytes = size};
    ft_model *again = new_model();
    /* Read by its nodes: a last softmax is left out, an input of which only the shape is used too, and pictures
       are [N, C, H, W]. */
    bool other = by_nodes && (!strcmp(name, "softmin") || !strcmp(name, "expand_as") || !strcmp(name, "permute")), read;
    ft_load(again, "written.onnx", load);
    read = !ft_error(again);
    CHECK(read || (by_nodes && unread && ft_error(again) == FT_UNSUPPORTED && strstr(ft_error_text(again), "cannot be mapped")),
          "%s: %s", name, ft_error_text(again));
    if (read && !other) check_onnx_again(m, again, name);
    ft_destroy(again);
}

/* Written and read back: by the description in the metadata and, if its digest is wrong, by the nodes. */
static void test_onnx_written(void)
{
    const char *path = "build/written.onnx";
    int i;
    for (i = 0; i < ONNX_CASES + ONNX_QUICK; ++i) {
        ft_model *m = new_model();
        bool unread = i < ONNX_CASES ? onnx_cases[i].unread : onnx_networks[i - ONNX_CASES].unread;
        const char *name = make_onnx_case(m, i);
        unsigned char *bytes, *sum;
        size_t size = 0;
        CHECK(ft_save(m, path, (ft_save_options){.widen = false}) == FT_OK, "%s: %s", name, ft_error_text(m));
        bytes = read_all(path, &size);
        check_onnx_structure(m, bytes, size, name);
        sum = find_bytes(bytes, size, "finetune.nodes");
        check_onnx_file(m, bytes, size, name, false, false);
        CHECK(sum, "%s: no digest", name);
        if (sum) sum[17] ^= 1;
        check_onnx_file(m, bytes, size, name, true, unread);
        ft_destroy(m);
        free(bytes);
    }
    remove(path);
}

/* Values between have names of their own, also if one node is called as a part of another. */
static void test_onnx_names(void)
{
    const char *path = "build/names.onnx";
    ft_model *m = new_model();
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 8}}), turned;
    unsigned char *bytes;
    size_t size = 0;
    turned = ft_rotary(m, "a/q", x, (ft_rotary_options){.heads = 2});
    ft_set_output(m, ft_attention(m, "a", turned, turned, x, (ft_attention_options){.heads = 2}));
    CHECK(ft_save(m, path, (ft_save_options){.widen = false}) == FT_OK, "%s", ft_error_text(m));
    bytes = read_all(path, &size);
    check_onnx_structure(m, bytes, size, "a/q in a");
    ft_destroy(m);
    free(bytes);
    remove(path);
}

/* What cannot be written is refused, all of it at once, and no file is left; so is a lack of memory, whenever
   it comes, which leaves the file of before. */
static void test_onnx_refused(void)
{
    static const char *const names[] = {"first (slice): ", "second (slice): "};
    const char *path = "build/refused.onnx";
    ft_model *m = new_model();
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 4}}), states[2];
    memory_count taken = {0};
    unsigned char *now;
    size_t size, before = 0;
    bool failed = true;
    int n, which;
    ft_lstm(m, "lstm", x, 3, (ft_recurrent_options){.final_states = true});
    x = ft_find(m, "lstm.states"); /* [hidden states, cells] at each step, of which ONNX has the last cells alone */
    for (n = 0; n < 2; ++n)
        states[n] = ft_slice(m, n ? "second" : "first", x, (ft_slice_options){.start = {0, 0, n ? 3 : 1}, .stop = {0, 0, n ? 0 : 5}});
    ft_set_output(m, ft_concat(m, "both", 2, states, 2));
    CHECK(ft_save(m, path, (ft_save_options){.widen = false}) == FT_UNSUPPORTED
          && strstr(ft_error_text(m), "2 nodes cannot be written"), "%s", ft_error_text(m));
    for (n = 0; n < 2; ++n) CHECK(strstr(ft_error_text(m), names[n]), "%s", ft_error_text(m));
    CHECK(!read_all(path, &size), "something was written");
    ft_clear_error(m);
    CHECK(ft_save(m, "x.npz", (ft_save_options){.with_probabilities = true}) == FT_INVALID, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_save(m, path, (ft_save_options){.with_preprocessing = true}) == FT_INVALID, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_check_save(m, path, (ft_save_options){.with_preprocessing = true}) == FT_INVALID, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_save(m, path, (ft_save_options){.weights_only = true}) == FT_UNSUPPORTED, "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_check_save(m, path, (ft_save_options){.weights_only = true}) == FT_UNSUPPORTED, "%s", ft_error_text(m));
    ft_destroy(m);
    for (which = 0; strcmp(onnx_networks[which].name, "gru_classifier"); ++which) {}
    for (n = 0; failed; ++n) { /* first without a failure */
        m = ft_create((ft_desc){.threads = 1, .allocator = counting(&taken)});
        ft_network(m, onnx_networks[which].name, onnx_networks[which].options);
        taken.fail_at = n ? taken.calls + n : 0;
        ft_save(m, path, (ft_save_options){.widen = false});
        failed = n == 0 || ft_error(m) == FT_MEMORY;
        CHECK(ft_error(m) == (n && failed ? FT_MEMORY : FT_OK), "allocation %d: %s", n, ft_error_text(m));
        now = read_all(path, &size);
        if (n == 0) before = size;
        CHECK(now && size == before, "allocation %d: another file", n);
        free(now);
        taken.fail_at = 0;
        ft_destroy(m);
        CHECK(taken.blocks == 0, "allocation %d: %ld blocks are left", n, taken.blocks);
    }
    CHECK(n > 50, "%d allocations", n);
    remove(path);
}

/* The weights go to the file from where they are: writing takes far less memory than they have. */
static void test_onnx_memory(void)
{
    const char *path = "build/large.onnx";
    memory_count taken = {0};
    ft_model *m = ft_create((ft_desc){.threads = 1, .allocator = counting(&taken)});
    ft_node x = ft_input(m, "x", (ft_input_options){.size = {FT_LENGTH, 500}});
    size_t before;
    ft_set_output(m, ft_linear(m, "fc", x, 1000, (ft_linear_options){0}));
    before = taken.bytes;
    taken.most = before;
    CHECK(before > 2000000 && ft_save(m, path, (ft_save_options){.type = FT_F16}) == FT_OK, "%s", ft_error_text(m));
    CHECK(taken.most < before + 100000 && taken.bytes == before, "%zu bytes more for 2 MB of weights", taken.most - before);
    ft_destroy(m);
    remove(path);
}

/* ---- Real ONNX files, beside what ONNX Runtime gave of them ---- */

static bool real_paths(const char *name, char model[400], char expected[400])
{
    const char *data = getenv("FINETUNE_DATA");
    FILE *file;
    if (!data) return false;
    snprintf(model, 400, "%s/formats/%s.onnx", data, name);
    snprintf(expected, 400, "%s/formats/%s.expected.npz", data, name);
    file = fopen(expected, "rb");
    if (file) fclose(file);
    return file != NULL;
}

static void read_array(ft_file *file, const char *name, float *to, size_t count)
{
    CHECK(ft_file_read_f32(file, ft_file_find(file, name), to, count) == FT_OK, "%s cannot be read", name);
}

/* Two pictures of text; trained to call each the other way round, the loss falls; saved and loaded,
   the outputs are the same. */
static void test_text_direction(void)
{
    enum { NUMBERS = 3 * 48 * 192 };
    static float x[2 * NUMBERS];
    float want[4], got[4], loss, first = 0;
    int32_t labels[2] = {1, 0};
    char path[400], expected[400];
    ft_load_options load = {.weights.sample = {3, 48, 192}}, none = {.weights.map = false};
    ft_model *m = new_model();
    ft_file *file;
    int i;
    if (!real_paths("text_direction_mobilenetv3", path, expected)) {
        SKIP("needs FINETUNE_DATA/formats");
        ft_destroy(m);
        return;
    }
    CHECK(ft_load(m, path, none) == FT_UNSUPPORTED && strstr(ft_error_text(m), "--sample"), "%s", ft_error_text(m));
    ft_clear_error(m);
    CHECK(ft_load(m, path, load) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_find(m, "conv1_weights").id && ft_find(m, "conv2_se_1_offset").id, "the names of initialisers");
    file = ft_file_open(m, expected, (ft_weights_options){.map = false});
    for (i = 0; file && i < 2; ++i) {
        read_array(file, i ? "x1" : "x0", x + i * NUMBERS, NUMBERS);
        read_array(file, i ? "y1" : "y0", want + 2 * i, 2);
    }
    ft_file_close(file);
    CHECK(ft_run(m, x, 2, got, 4) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < 4; ++i) {
        double share = 1 / (1 + exp((double)got[i ^ 1] - (double)got[i]));
        CHECK(CLOSE(share, want[i], 1e-4), "text_direction: output %d is %g, not %g", i, share, (double)want[i]);
    }
    for (i = 0, loss = 0; i < 4; ++i) {
        ft_feed(m, ft_find(m, "input"), x, 2);
        ft_feed(m, ft_find(m, "labels"), labels, 2);
        loss = ft_forward(m, true);
        if (i == 0) first = loss;
        ft_backward(m);
        ft_update(m, 1e-3f);
    }
    CHECK(!ft_error(m) && loss < 0.5f * first, "the loss went from %g to %g: %s", (double)first, (double)loss, ft_error_text(m));
    CHECK(ft_run(m, x, 2, got, 4) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_save(m, "build/text_direction.safetensors", (ft_save_options){.widen = false}) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model();
    CHECK(ft_load(m, "build/text_direction.safetensors", none) == FT_OK, "%s", ft_error_text(m));
    CHECK(ft_run(m, x, 2, want, 4) == FT_OK && memcmp(got, want, sizeof got) == 0, "saved and loaded: %s", ft_error_text(m));
    ft_destroy(m);
    remove("build/text_direction.safetensors");
}

/* The logarithms of quiet bins are as exact as float32 sums of 256 products: added one after the other, by
   scalar code or by ONNX Runtime without its own optimisations, they are off by 5e-4 and 3e-3. */
static void test_basic_pitch(void)
{
    enum { SAMPLES = 43844, MOST = 172 * 264 };
    static const char *const names[] = {"StatefulPartitionedCall:0", "StatefulPartitionedCall:1", "StatefulPartitionedCall:2"};
    static const int counts[] = {172 * 264, 172 * 88, 172 * 88};
    static float x[SAMPLES], want[MOST], got[MOST];
    char path[400], expected[400], key[40];
    ft_model *m = ft_create((ft_desc){.threads = 2, .simd = "avx2"});
    ft_load_options none = {.no_new_head = false};
    ft_file *file;
    double bound = 1e-4;
    int i, k;
    if (ft_error(m) != FT_OK) {
        ft_destroy(m);
        m = new_model();
        bound = 1e-3;
    }
    if (!real_paths("basic_pitch", path, expected)) {
        SKIP("needs FINETUNE_DATA/formats");
        ft_destroy(m);
        return;
    }
    CHECK(ft_load(m, path, none) == FT_OK, "%s", ft_error_text(m));
    file = ft_file_open(m, expected, (ft_weights_options){.map = false});
    if (file) read_array(file, "x", x, SAMPLES);
    for (i = 0; i < 3; ++i) ft_keep(m, ft_find(m, names[i]));
    ft_feed(m, ft_find(m, "input"), x, 1);
    ft_forward(m, false);
    CHECK(ft_output(m).id == ft_find(m, names[2]).id, "the first output is the network's");
    for (i = 0; file && i < 3; ++i) {
        double worst = 0, largest = 0;
        snprintf(key, sizeof key, "StatefulPartitionedCall_%d", i);
        read_array(file, key, want, (size_t)counts[i]);
        CHECK(ft_get(m, ft_find(m, names[i]), got, (size_t)counts[i]) == FT_OK, "%s", ft_error_text(m));
        for (k = 0; k < counts[i]; ++k) {
            worst = worse(worst, fabs((double)got[k] - (double)want[k]));
            if ((double)want[k] > largest) largest = (double)want[k];
        }
        CHECK(largest > 0.1 && worst <= bound * largest, "basic_pitch: output %d is off by %g of %g", i, worst, largest);
    }
    ft_file_close(file);
    ft_destroy(m);
}

int main(void)
{
    static const char *const damaged[] = {"plain.safetensors", "plain.pt", "checkpoint.pt",
                                          "views.pt", "protocol5.pt", "evil.pt", "legacy.pt",
                                          "ckpt_legacy.pt", "ckpt_ema.pt", "a.npy", "np_v3.npy", "np_mixed.npz"};
    size_t i;
    quick = getenv("FINETUNE_QUICK") != NULL;
    test_real("plain.pt", 1);
    test_real("ordered.pt", 2);
    test_real("checkpoint.pt", 2);
    test_real("module.pt", 2);
    test_real("views.pt", 5);
    test_real("types.pt", 10);
    test_real("parameter.pt", 1);
    test_real("protocol5.pt", 1);
    test_real("plain.safetensors", 6);
    test_values();
    test_real("legacy.pt", 1);
    test_real("a.npy", 1);
    test_real("np_types.npz", 20);
    test_real("np_deflated.npz", 21);
    test_real("np_mixed.npz", 3);
    test_real("np_others.npz", 9);
    test_refused("np_bzip2.npz", "another method");
    test_numpy();
    test_conversions();
    test_npz_model();
    test_real("tf1.index", 9);
    test_real("tf2.index", 5);
    test_bundles();
    test_savedmodel();
    test_notes();
    test_names();
    test_evil();
    for (i = 0; i < sizeof damaged / sizeof damaged[0]; ++i) test_damaged(damaged[i]);
    quick = true;
    test_damaged("np_deflated.npz");
    test_damaged("np_others.npz");
    quick = getenv("FINETUNE_QUICK") != NULL;
    test_damaged_bundle("tf2");
    test_damaged_model();
    test_disk();
    test_matching();
    test_onnx();
    test_onnx_written();
    test_onnx_names();
    test_onnx_refused();
    test_onnx_memory();
    test_text_direction();
    test_basic_pitch();
    return check_done("test_formats");
}
