/* test_pixels.c - pictures in memory (ft_pixels) train as the same pictures in a folder do, to the
   same bits, and ft_predict_data predicts many samples as each of them alone. */
#include "public.h"
#include "log.h"
#include <sys/stat.h>

#define ROOT "build/pixels_test"

enum { CLASSES = 3, EACH = 10, COUNT = CLASSES * EACH, SIDE = 24 };

typedef struct pictures {
    uint8_t *rgb[COUNT];
    ft_picture_size size[COUNT];
    int label[COUNT];
} pictures;

static const char *const names[CLASSES] = {"blue", "green", "red"};

/* Pictures of different sizes: a class has its colour, with a pattern that tells pictures apart.
   They are written as PPM too, ROOT/CLASS/NN.ppm, in the order of the arrays. */
static void make_pictures(pictures *p)
{
    char path[200];
    int i, c;
    mkdir("build", 0777);
    mkdir(ROOT, 0777);
    for (i = 0; i < COUNT; ++i) {
        int width = 20 + 7 * i % 31, height = 18 + 11 * i % 37;
        size_t bytes = 3 * (size_t)width * (size_t)height, k;
        FILE *file;
        c = i / EACH;
        p->size[i] = (ft_picture_size){width, height};
        p->label[i] = c;
        p->rgb[i] = (uint8_t *)malloc(bytes);
        if (!p->rgb[i]) exit(1);
        for (k = 0; k < bytes; ++k)
            p->rgb[i][k] = (uint8_t)((k * (size_t)(i + 5) * 13 + k / 7) % 160
                                     + ((int)(k % 3) == 2 - c ? 95 : 0));
        snprintf(path, sizeof path, ROOT "/%s", names[c]);
        mkdir(path, 0777);
        snprintf(path, sizeof path, ROOT "/%s/%02d.ppm", names[c], i % EACH);
        file = fopen(path, "wb");
        CHECK(file && fprintf(file, "P6 %d %d 255\n", width, height) > 0
              && fwrite(p->rgb[i], 1, bytes, file) == bytes, "%s", path);
        if (file) fclose(file);
    }
}

static void free_pictures(pictures *p)
{
    int i;
    for (i = 0; i < COUNT; ++i) free(p->rgb[i]);
}

/* A network of two convolutions; `channels` of the picture. */
static ft_model *network(int channels, int threads, const char *cache)
{
    ft_desc desc = {.seed = 7, .threads = threads, .log = collect, .cache = cache};
    ft_preprocessing p = {.width = SIDE, .height = SIDE, .channels = channels, .resize = SIDE + 4,
                          .mean = {0.4f, 0.5f, 0.45f}, .std = {0.25f, 0.2f, 0.3f}};
    ft_conv2d_options conv = {.kernel = {3}, .stride = {2}};
    ft_model *m = ft_create(desc);
    ft_activation_options none = {0};
    ft_node x, labels;
    log_text[0] = 0;
    ft_set_preprocessing(m, p);
    x = ft_input(m, "input", (ft_input_options){.size = {channels, SIDE, SIDE}});
    labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    x = ft_activation(m, "relu", NULL, ft_conv2d(m, "conv1", x, 8, conv), none);
    x = ft_activation(m, "relu", NULL, ft_conv2d(m, "conv2", x, 8, conv), none);
    x = ft_linear(m, "fc", ft_flatten(m, NULL, x), CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static ft_data *in_memory(ft_model *m, const pictures *p, ft_pixels_options o)
{
    o.classes = CLASSES;
    o.class_names = names;
    return ft_pixels(m, COUNT, (const uint8_t *const *)p->rgb, p->size, p->label, o);
}

/* What a training run gives: every weight, and what was measured. */
typedef struct outcome { uint64_t weights; ft_fit_result fit; ft_evaluation e; char names[100]; } outcome;

typedef enum kind { PLAIN, VIEWS, PREFIX, PREFIX_VIEWS, RECIPE, KINDS } kind;

static outcome train(const pictures *p, kind k, bool folder, size_t cache_bytes, int threads)
{
    ft_augmentation views = {.shift = 0.2f, .scale = 0.6f, .flip = true};
    ft_augmentation augmentation = k == VIEWS || k == PREFIX_VIEWS ? views : (ft_augmentation){0};
    ft_model *m = network(3, threads, NULL);
    ft_data *data;
    outcome out = {0};
    ft_fit_options fit = {.epochs = 4, .batch_size = 8, .hold_back = 0.2f, .best = true,
                          .augment = augmentation.flip};
    if (folder)
        data = ft_image_folder(m, ROOT, (ft_image_folder_options){
            .augmentation = augmentation, .cache_bytes = cache_bytes});
    else data = in_memory(m, p, (ft_pixels_options){.augmentation = augmentation,
                                                    .cache_bytes = cache_bytes});
    CHECK(ft_data_count(data) == COUNT && ft_data_classes(data) == CLASSES
          && !strcmp(ft_data_class_name(data, 1), names[1]), "%s", ft_error_text(m));
    if (k == PREFIX || k == PREFIX_VIEWS) ft_freeze(m, "conv*");
    if (k == RECIPE) out.fit = ft_finetune(m, data, (ft_finetune_options){.epochs = 2}).fit;
    else out.fit = ft_fit(m, data, fit);
    out.e = ft_evaluate(m, data, (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    out.weights = fingerprint(m);
    snprintf(out.names, sizeof out.names, "%s %s %s", ft_class_name(m, 0), ft_class_name(m, 1),
             ft_class_name(m, 2));
    ft_destroy(m);
    return out;
}

static bool same(const outcome *a, const outcome *b)
{
    return a->weights == b->weights && a->fit.loss == b->fit.loss && a->e.loss == b->e.loss
        && a->fit.held_back_loss == b->fit.held_back_loss && a->e.correct == b->e.correct
        && a->e.total == COUNT && b->e.total == COUNT && !strcmp(a->names, b->names);
}

static void test_as_a_folder(const pictures *p)
{
    uint64_t before = 0;
    int k;
    for (k = 0; k < KINDS; ++k) {
        outcome folder = train(p, (kind)k, true, 0, 1);
        outcome memory = train(p, (kind)k, false, 0, 1);
        outcome small = train(p, (kind)k, false, 4000, 3); /* room for one resized picture */
        CHECK(same(&folder, &memory), "kind %d: loss %.9g, in memory %.9g", k, folder.e.loss,
              memory.e.loss);
        CHECK(same(&folder, &small), "kind %d: loss %.9g, without room %.9g", k, folder.e.loss,
              small.e.loss);
        CHECK(folder.weights != before, "kind %d trains as the one before", k);
        before = folder.weights;
    }
}

/* ---- Channels: against ITU-R 601's luma, computed here ---- */
static void test_channels(const pictures *p)
{
    static const int weights[3] = {19595, 38470, 7471};
    uint8_t *other[4][COUNT];
    ft_prediction one[CLASSES], all[COUNT][CLASSES];
    int channels, i, k, wanted;
    size_t n;
    for (i = 0; i < COUNT; ++i)
        for (channels = 1; channels <= 4; ++channels) {
            size_t area = (size_t)p->size[i].width * (size_t)p->size[i].height;
            uint8_t *to = other[channels - 1][i] = (uint8_t *)malloc(area * (size_t)channels);
            if (!to) exit(1);
            for (n = 0; n < area; ++n) {
                const uint8_t *rgb = p->rgb[i] + 3 * n;
                int luma = (rgb[0] * weights[0] + rgb[1] * weights[1] + rgb[2] * weights[2] + 32768) >> 16;
                for (k = 0; k < channels; ++k)
                    to[n * (size_t)channels + (size_t)k] = channels < 3 ? (uint8_t)(k ? 9 : luma)
                                                                        : k < 3 ? rgb[k] : 77;
            }
        }
    for (wanted = 1; wanted <= 3; wanted += 2)
        for (channels = 1; channels <= 4; ++channels) {
            ft_model *m = network(wanted, 2, NULL);
            ft_pixels_options o = {.channels = channels, .cache_bytes = 4000};
            ft_data *data = ft_pixels(m, COUNT, (const uint8_t *const *)other[channels - 1], p->size,
                                      NULL, o);
            ft_predict_data(m, data, &all[0][0], CLASSES, (ft_predict_options){0});
            for (i = 0; i < COUNT; ++i) {
                const uint8_t *pixels = channels < 3 || wanted == 3 ? other[channels - 1][i] : other[0][i];
                int of = channels < 3 || wanted == 3 ? channels : 1;
                if (wanted == 3 && channels == 4) pixels = p->rgb[i], of = 3;
                if (channels == 2) pixels = other[0][i], of = 1;
                ft_predict_pixels(m, pixels, p->size[i].width, p->size[i].height, of, one, CLASSES);
                CHECK(memcmp(one, all[i], sizeof one) == 0, "picture %d of %d channels for %d: %g, alone %g",
                      i, channels, wanted, (double)all[i][0].probability, (double)one[0].probability);
            }
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            ft_destroy(m);
        }
    for (i = 0; i < COUNT; ++i)
        for (channels = 0; channels < 4; ++channels) free(other[channels][i]);
}

/* ---- Prediction of many ---- */
static void test_predict(const pictures *p)
{
    static const int sizes[] = {0, 1, 7, 100};
    ft_model *m = network(3, 2, NULL);
    ft_prediction one[CLASSES + 1], all[COUNT][CLASSES + 1], few[COUNT];
    ft_data *data = in_memory(m, p, (ft_pixels_options){0}), *folder;
    char path[200];
    size_t s;
    int i, seen[CLASSES] = {0};
    for (s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        memset(all, 1, sizeof all);
        CHECK(ft_predict_data(m, data, &all[0][0], CLASSES + 1, (ft_predict_options){.batch_size = sizes[s]})
              == COUNT, "%s", ft_error_text(m));
        for (i = 0; i < COUNT; ++i) {
            CHECK(ft_predict_pixels(m, p->rgb[i], p->size[i].width, p->size[i].height, 3, one, CLASSES)
                  == CLASSES, "%s", ft_error_text(m));
            CHECK(memcmp(one, all[i], CLASSES * sizeof *one) == 0, "picture %d, batches of %d", i, sizes[s]);
            CHECK(all[i][CLASSES].class_index == -1 && all[i][CLASSES].probability == 0,
                  "there is no class %d", CLASSES);
            seen[all[i][0].class_index] += 1;
        }
    }
    /* One class each, of a folder with a file that disappears. */
    folder = ft_image_folder(m, ROOT, (ft_image_folder_options){.cache_bytes = 1});
    snprintf(path, sizeof path, ROOT "/%s/03.ppm", names[1]);
    rename(path, ROOT "/away");
    CHECK(ft_predict_data(m, folder, few, 1, (ft_predict_options){0}) == COUNT - 1, "%s", ft_error_text(m));
    rename(ROOT "/away", path);
    for (i = 0; i < COUNT; ++i)
        if (i == EACH + 3) CHECK(few[i].class_index == -1 && few[i].probability == 0, "it cannot be read");
        else CHECK(memcmp(&few[i], all[i], sizeof *few) == 0, "picture %d of the folder", i);
    CHECK(ft_data_skipped(folder) == 1 && ft_data_skipped(data) == 0, "one file is missing");
    ft_destroy(m);
}

/* Inputs of several names, no picture at all: a source of one's own. */
static bool two_numbers(void *user, int index, int view, ft_slot *slots, int count)
{
    int s;
    (void)user;
    (void)view;
    for (s = 0; s < count; ++s) {
        float *to = (float *)slots[s].values;
        CHECK(strcmp(slots[s].name, "labels") != 0, "labels are not read");
        to[0] = (float)index * (slots[s].name[0] == 'a' ? 1.0f : -0.5f);
        to[1] = 1;
    }
    return true;
}

static void test_predict_two_inputs(void)
{
    ft_model *m = ft_create((ft_desc){.seed = 2, .threads = 2});
    ft_input_options two = {.size = {2}};
    ft_node pair[2], x;
    ft_source source = {.count = 9, .get = two_numbers};
    ft_prediction best[9][2];
    float a[18], b[18], logits[27];
    ft_data *data;
    int i;
    pair[0] = ft_input(m, "a", two);
    pair[1] = ft_input(m, "b", two);
    x = ft_linear(m, "fc", ft_concat(m, NULL, 2, pair, 1), 3, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
    data = ft_data_source(m, source);
    CHECK(ft_predict_data(m, data, &best[0][0], 2, (ft_predict_options){.batch_size = 4}) == 9, "%s",
          ft_error_text(m));
    for (i = 0; i < 9; ++i) {
        a[2 * i] = (float)i;
        b[2 * i] = -0.5f * (float)i;
        a[2 * i + 1] = b[2 * i + 1] = 1;
    }
    ft_feed(m, pair[0], a, 9);
    ft_feed(m, pair[1], b, 9);
    ft_forward(m, false);
    ft_get(m, x, logits, 27);
    for (i = 0; i < 9; ++i) {
        double sum = 0;
        int k, most = 0;
        for (k = 0; k < 3; ++k) sum += exp((double)logits[3 * i + k]);
        for (k = 1; k < 3; ++k) if (logits[3 * i + k] > logits[3 * i + most]) most = k;
        CHECK(best[i][0].class_index == most
              && CLOSE(best[i][0].probability, exp((double)logits[3 * i + most]) / sum, 1e-6), "sample %d", i);
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Groups are held back as a whole ---- */
static void test_groups(const pictures *p)
{
    int groups[COUNT], i, held_back, whole;
    ft_model *m = network(3, 1, NULL);
    ft_data *data;
    ft_fit_result r;
    for (i = 0; i < COUNT; ++i) groups[i] = i / 5 - 3; /* six groups of five, two a class */
    data = in_memory(m, p, (ft_pixels_options){.groups = groups});
    memset(groups, 0, sizeof groups); /* they were copied */
    r = ft_fit(m, data, (ft_fit_options){.epochs = 1, .hold_back = 0.5f});
    held_back = r.held_back_total;
    data = in_memory(m, p, (ft_pixels_options){0});
    r = ft_fit(m, data, (ft_fit_options){.epochs = 1, .hold_back = 0.2f});
    whole = r.held_back_total;
    CHECK(held_back == 15 && whole == 6, "%d in groups, %d single: %s", held_back, whole, ft_error_text(m));
    data = in_memory(m, p, (ft_pixels_options){.groups = groups});
    r = ft_fit(m, data, (ft_fit_options){.epochs = 1, .hold_back = 0.2f});
    CHECK(r.held_back_total == 0, "one group cannot be split: %d", r.held_back_total);
    ft_destroy(m);
}

/* ---- The cache on disk and checkpoints know the pictures by their content ---- */
static void test_kept(pictures *p)
{
    int round;
    mkdir(ROOT "_cache", 0777);
    remove(ROOT "_point");
    for (round = 0; round < 4; ++round) {
        ft_model *m = network(3, 1, ROOT "_cache");
        ft_data *data;
        ft_fit_options o = {.epochs = 2, .checkpoint = ROOT "_point"};
        if (round == 2) p->rgb[4][50] ^= 1;
        if (round == 3) p->rgb[4][50] ^= 1;
        ft_freeze(m, "conv*");
        data = in_memory(m, p, (ft_pixels_options){0});
        ft_fit(m, data, o);
        if (round == 1) CHECK(strstr(log_text, " are reused") != NULL, "round 1: %s", log_text);
        if (round == 2) CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "content"),
                              "another picture: %s", ft_error_text(m));
        else CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        if (round == 0) remove(ROOT "_point");
        ft_destroy(m);
    }
    remove(ROOT "_point");
}

/* ---- Errors ---- */
static void refused(ft_model *m, const char *text)
{
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), text), "'%s' is expected, not '%s'", text,
          ft_error_text(m));
    ft_clear_error(m);
}

static void test_errors(pictures *p)
{
    ft_model *m = network(3, 1, NULL), *other = network(3, 1, NULL);
    const uint8_t *const *rgb = (const uint8_t *const *)p->rgb;
    ft_pixels_options o = {0};
    ft_prediction best[COUNT];
    ft_picture_size size = p->size[2];
    uint8_t *kept = p->rgb[1];
    ft_data *data;
    CHECK(!ft_pixels(m, 0, rgb, p->size, p->label, o), "no picture");
    refused(m, "count (0)");
    CHECK(!ft_pixels(m, COUNT, NULL, p->size, p->label, o), "no pixels");
    refused(m, "must not be NULL");
    CHECK(!ft_pixels(m, COUNT, rgb, NULL, p->label, o), "no sizes");
    refused(m, "must not be NULL");
    p->rgb[1] = NULL;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "no pixels of one");
    refused(m, "pixels[1] is NULL");
    p->rgb[1] = kept;
    p->size[2].height = 0;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "no height");
    refused(m, "picture 2 is 34 x 0");
    p->size[2] = size;
    o.channels = 5;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "five channels");
    refused(m, "channels is 5");
    o.channels = 0;
    o.class_names = names;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "names of how many classes?");
    refused(m, "class_names has no effect");
    o.classes = 2;
    o.class_names = NULL;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "a label beyond the classes");
    refused(m, "ft_pixels: labels[20] is 2");
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, NULL, o), "classes without labels");
    refused(m, "classes has no effect");
    o.classes = 0;
    o.augmentation.shift = 2;
    CHECK(!ft_pixels(m, COUNT, rgb, p->size, p->label, o), "a shift of 200 %%");
    refused(m, "shift");
    o.augmentation.shift = 0;
    data = ft_pixels(m, COUNT, rgb, p->size, NULL, o);
    CHECK(ft_data_label(data, 0) == -1 && ft_data_classes(data) == 0 && !*ft_data_name(data, 3)
          && !ft_data_class_name(data, 0), "without labels");
    ft_fit(m, data, (ft_fit_options){0});
    refused(m, "\"labels\", but this data fills only input");
    CHECK(ft_predict_data(m, NULL, best, 1, (ft_predict_options){0}) == 0, "no data");
    refused(m, "the data is NULL");
    CHECK(ft_predict_data(m, data, NULL, 1, (ft_predict_options){0}) == 0, "no room");
    refused(m, "best is NULL");
    CHECK(ft_predict_data(m, data, best, 1, (ft_predict_options){.batch_size = -1}) == 0, "a batch of -1");
    refused(m, "batch_size is -1");
    CHECK(ft_predict_data(other, data, best, 1, (ft_predict_options){0}) == 0, "another model's data");
    refused(other, "belongs to another model");
    ft_destroy(m);
    ft_destroy(other);
    CHECK(!ft_pixels(NULL, 1, rgb, p->size, NULL, o) && !ft_predict_data(NULL, NULL, best, 1,
                                                                         (ft_predict_options){0}),
          "a NULL model is accepted");
}

/* An allocator that fails at each call in turn: an error each time, and nothing is left. */
static void test_no_memory(const pictures *p)
{
    long at, calls = 0;
    for (at = 0; at == 0 || at <= calls; ++at) {
        memory_count count = {0};
        ft_desc desc = {.threads = 1, .allocator = counting(&count)};
        ft_preprocessing pre = {.width = 8, .height = 8, .channels = 1, .std = {1, 1, 1}};
        ft_model *m = ft_create(desc);
        long before = count.calls;
        ft_data *data;
        ft_set_preprocessing(m, pre);
        count.fail_at = at ? before + at : 0;
        data = in_memory(m, p, (ft_pixels_options){0});
        if (at == 0) calls = count.calls - before;
        CHECK(at ? !data && ft_error(m) == FT_MEMORY : data != NULL, "call %ld: %s", at, ft_error_text(m));
        ft_data_free(data);
        ft_destroy(m);
        CHECK(count.blocks == 0, "call %ld leaves %ld blocks", at, count.blocks);
    }
    CHECK(calls > 30, "only %ld calls", calls);
}

/* ---- What the recipe may do with pictures: class_means, find_flip, last_block, average_start ---- */

enum { SPOTS = 100, SPOT_SIDE = 8, SPOT_PIXELS = SPOT_SIDE * SPOT_SIDE, SPOT_FEATURES = 4 * 9 };

typedef struct spots {
    uint8_t grey[SPOTS][SPOT_PIXELS];
    const uint8_t *pixels[SPOTS];
    ft_picture_size size[SPOTS];
    int label[SPOTS];
} spots;

/* Noise with a brighter half: of class 0 the left one, of class 1 the right one; or, `upright`, the upper
   and the lower one. One label in four is wrong, so that a head alone is not enough. */
static void make_spots(spots *p, bool upright)
{
    unsigned state = 3;
    int s, i;
    for (s = 0; s < SPOTS; ++s) {
        for (i = 0; i < SPOT_PIXELS; ++i) {
            int half = (upright ? i / SPOT_SIDE : i % SPOT_SIDE) < SPOT_SIDE / 2 ? 0 : 1;
            state = state * 1664525u + 1013904223u;
            p->grey[s][i] = (uint8_t)((state >> 24) / 2 + (half == s % 2 ? 60 : 0));
        }
        state = state * 1664525u + 1013904223u;
        p->label[s] = (state >> 16) % 4 == 0 ? 1 - s % 2 : s % 2;
        p->pixels[s] = p->grey[s];
        p->size[s] = (ft_picture_size){SPOT_SIDE, SPOT_SIDE};
    }
}

static ft_model *spot_network(void)
{
    ft_preprocessing p = {.width = SPOT_SIDE, .height = SPOT_SIDE, .channels = 1, .mean = {0.4f}, .std = {0.25f}};
    ft_model *m = ft_create((ft_desc){.seed = 5, .threads = 1, .log = collect});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {1, SPOT_SIDE, SPOT_SIDE}}), labels;
    log_text[0] = 0;
    ft_set_preprocessing(m, p);
    labels = ft_input(m, "labels", (ft_input_options){.type = FT_I32});
    x = ft_conv2d(m, "layer.0.conv", x, 4, (ft_conv2d_options){.kernel = {2}, .stride = {2}});
    x = ft_activation(m, "relu", NULL, x, (ft_activation_options){0});
    x = ft_conv2d(m, "layer.1.conv", x, 4, (ft_conv2d_options){.kernel = {2}});
    x = ft_linear(m, "fc", ft_flatten(m, "flat", x), 2, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, labels, (ft_loss_options){0}));
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* Where a pixel is in the mirrored picture. */
static int mirror_of(int i) { return i / SPOT_SIDE * SPOT_SIDE + SPOT_SIDE - 1 - i % SPOT_SIDE; }

static ft_data *spot_data(ft_model *m, const spots *p)
{
    return ft_pixels(m, SPOTS, p->pixels, p->size, p->label, (ft_pixels_options){.channels = 1, .classes = 2});
}

/* The mean loss of x = scale * cosine, each sample left out of its class's mean; and how many are right. */
static double loss_left_out(double x[SPOTS][SPOT_FEATURES], const int *label, double scale, int *right)
{
    double loss = 0;
    int s, t, f, k;
    *right = 0;
    for (s = 0; s < SPOTS; ++s) {
        double cosine[2];
        for (k = 0; k < 2; ++k) {
            double mean[SPOT_FEATURES] = {0}, product = 0, squares = 0;
            for (t = 0; t < SPOTS; ++t)
                for (f = 0; f < SPOT_FEATURES && t != s && label[t] == k; ++f) mean[f] += x[t][f];
            for (f = 0; f < SPOT_FEATURES; ++f) product += mean[f] * x[s][f], squares += mean[f] * mean[f];
            cosine[k] = product / sqrt(squares);
        }
        loss += log(1 + exp(scale * (cosine[1 - label[s]] - cosine[label[s]]))) / SPOTS;
        *right += cosine[label[s]] > cosine[1 - label[s]];
    }
    return loss;
}

/* class_means: each logit is scale * the cosine of the centred features with the class's mean of such, times
   their length by the mean length; the scale is the best of those tried, left out one at a time. */
static void test_class_means(const spots *p)
{
    static float input[SPOTS * SPOT_PIXELS], flat[SPOTS * SPOT_FEATURES], logits[SPOTS * 2];
    static double x[SPOTS][SPOT_FEATURES], length[SPOTS];
    double class_mean[2][SPOT_FEATURES] = {{0}}, centre[SPOT_FEATURES], mean_length = 0, scale, best, step;
    ft_model *m = spot_network();
    ft_data *data = spot_data(m, p);
    ft_finetune_result r = ft_finetune(m, data, (ft_finetune_options){.head_only = true, .class_means = true});
    int count[2] = {0, 0}, s, f, k, right, other;
    char line[100];
    CHECK(ft_error(m) == FT_OK && strstr(r.choice, "the classes' mean features"), "%s %s", ft_error_text(m),
          r.choice);
    for (s = 0; s < SPOTS; ++s) {
        ft_slot slot = {.name = "input", .type = FT_F32, .shape = {3, {1, SPOT_SIDE, SPOT_SIDE}},
                        .values = input + s * SPOT_PIXELS};
        ft_data_read(data, s, 0, &slot, 1);
    }
    ft_keep(m, ft_find(m, "flat"));
    ft_feed(m, ft_find(m, "input"), input, SPOTS);
    ft_feed(m, ft_find(m, "labels"), p->label, SPOTS);
    ft_forward(m, false);
    ft_get(m, ft_find(m, "flat"), flat, SPOTS * SPOT_FEATURES);
    ft_get(m, ft_output(m), logits, SPOTS * 2);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    for (s = 0; s < SPOTS; ++s) {
        count[p->label[s]] += 1;
        for (f = 0; f < SPOT_FEATURES; ++f) class_mean[p->label[s]][f] += (double)flat[s * SPOT_FEATURES + f];
    }
    for (f = 0; f < SPOT_FEATURES; ++f)
        centre[f] = (class_mean[0][f] / count[0] + class_mean[1][f] / count[1]) / 2;
    memset(class_mean, 0, sizeof class_mean);
    for (s = 0; s < SPOTS; ++s) {
        for (f = 0; f < SPOT_FEATURES; ++f) {
            x[s][f] = (double)flat[s * SPOT_FEATURES + f] - centre[f];
            length[s] += x[s][f] * x[s][f];
        }
        length[s] = sqrt(length[s]);
        mean_length += length[s] / SPOTS;
        for (f = 0; f < SPOT_FEATURES; ++f) class_mean[p->label[s]][f] += x[s][f] /= length[s];
    }
    scale = 0;
    for (s = 0; s < SPOTS; ++s)
        for (k = 0; k < 2; ++k) {
            double product = 0, squares = 0, cosine;
            for (f = 0; f < SPOT_FEATURES; ++f) {
                product += class_mean[k][f] * x[s][f];
                squares += class_mean[k][f] * class_mean[k][f];
            }
            cosine = product / sqrt(squares);
            if (s == 0 && k == 0) scale = (double)logits[0] * mean_length / length[0] / cosine;
            CHECK(fabs((double)logits[2 * s + k] - scale * cosine * length[s] / mean_length) < 1e-4 * scale,
                  "sample %d, class %d: %g, not %g", s, k, (double)logits[2 * s + k],
                  scale * cosine * length[s] / mean_length);
        }
    best = loss_left_out(x, p->label, scale, &right);
    CHECK(fabs(r.fit.loss - best) < 1e-4 && fabs(r.fit.accuracy - right / (double)SPOTS) < 1e-9, "loss %g, %g right:"
          " not %g, %d", r.fit.loss, r.fit.accuracy, best, right);
    for (step = 0.5; step < 2; step *= 1.09)
        CHECK(loss_left_out(x, p->label, scale * step, &other) >= best - 1e-9, "scale %g is better than %g",
              scale * step, scale);
    snprintf(line, sizeof line, "left out one at a time, %d of %d", right, SPOTS);
    CHECK(strstr(log_text, line) && right > 60 && right < 95, "\"%s\" is not in %s", line, log_text);
    ft_destroy(m);
}

/* Of 40 pictures too few can be held back: a new head is set to class means, unless an option says how
   to train it, or the model had a head for these classes. */
static void test_means_of_few(const spots *p)
{
    static const char *const names_of[] = {"left", "right"};
    ft_pixels_options two = {.channels = 1, .classes = 2, .class_names = names_of};
    ft_model *m = spot_network();
    ft_data *data = ft_pixels(m, 40, p->pixels, p->size, p->label, two);
    float set[2 * SPOT_FEATURES], now[2 * SPOT_FEATURES];
    ft_finetune_result r = ft_finetune(m, data, (ft_finetune_options){0});
    CHECK(ft_error(m) == FT_OK && strstr(r.choice, "head only: of 40 images only 8")
          && strstr(r.choice, "the classes' mean features"), "%s %s", ft_error_text(m), r.choice);
    ft_get(m, ft_find(m, "fc.weight"), set, 2 * SPOT_FEATURES);
    r = ft_finetune(m, data, (ft_finetune_options){0});
    CHECK(!strstr(r.choice, "mean features") && strstr(r.choice, "; 30 epochs"), "%s", r.choice);
    ft_destroy(m);
    m = spot_network();
    data = ft_pixels(m, 40, p->pixels, p->size, p->label, two);
    r = ft_finetune(m, data, (ft_finetune_options){.epochs = 1});
    CHECK(!strstr(r.choice, "mean features") && strstr(r.choice, "; 1 epoch,"), "%s", r.choice);
    r = ft_finetune(m, data, (ft_finetune_options){.head_only = true, .class_means = true});
    ft_get(m, ft_find(m, "fc.weight"), now, 2 * SPOT_FEATURES);
    CHECK(ft_error(m) == FT_OK && memcmp(now, set, sizeof set) == 0 && r.fit.accuracy > 0.5
          && r.fit.accuracy < 1 && r.fit.loss > 0 && r.fit.loss < 1, "%s: %g, %g", ft_error_text(m),
          r.fit.accuracy, r.fit.loss);
    ft_destroy(m);
}

/* The trial of class means counts as ft_evaluate does on what ft_data_held_back says; pictures whose
   classes are a left and a right one are not mirrored, those of an upper and a lower one are. */
static void test_find_flip(const spots *p, bool mirrored)
{
    ft_model *m = spot_network();
    ft_data *data = spot_data(m, p);
    ft_finetune_options o = {.class_means = true, .find_flip = true, .epochs = 1, .augmentation = {.shift = -1}};
    ft_finetune_result r = ft_finetune(m, data, o);
    float plain[SPOT_PIXELS], view[SPOT_PIXELS];
    int v, i, flipped = 0;
    CHECK(ft_error(m) == FT_OK && (strstr(r.choice, ", mirrored too") != NULL) == mirrored
          && strstr(r.choice, "all layers"), "%s %s", ft_error_text(m), r.choice);
    CHECK(strstr(log_text, mirrored ? "mirrored in training" : "not mirrored"), "%s", log_text);
    for (v = 0; v <= 20; ++v) {
        ft_slot slot = {.name = "input", .type = FT_F32, .shape = {3, {1, SPOT_SIDE, SPOT_SIDE}}, .values = view};
        ft_data_read(data, 3, v, &slot, 1);
        if (v == 0) memcpy(plain, view, sizeof view);
        if (memcmp(view, plain, sizeof view) == 0) continue;
        flipped += 1;
        for (i = 0; i < SPOT_PIXELS; ++i)
            CHECK(fabs((double)view[i] - (double)plain[mirror_of(i)]) < 1e-6, "view %d: pixel %d", v, i);
    }
    CHECK(mirrored ? flipped > 3 && flipped < 17 : flipped == 0, "%d of 20 views are mirrored", flipped);
    ft_destroy(m);
    m = spot_network();
    o.augmentation.flip = true;
    ft_finetune(m, spot_data(m, p), o);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "find_flip has no effect"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

/* ft_evaluate_options.mirrored, and ft_predict_options': the mean of the logits of the pictures and of such as were mirrored by
   hand, in memory. */
static void test_mirrored(const spots *p)
{
    static float input[SPOTS * SPOT_PIXELS], turned[SPOTS * SPOT_PIXELS], logits[2][SPOTS * 2];
    static const float *const views[2] = {input, turned};
    ft_model *m = spot_network();
    ft_data *data = spot_data(m, p);
    ft_evaluation plain = ft_evaluate(m, data, (ft_evaluate_options){0}), e;
    ft_prediction best[SPOTS];
    double loss = 0;
    int s, i, v, right = 0;
    CHECK(ft_predict_data(m, data, best, 1, (ft_predict_options){.mirrored = true, .batch_size = 7}) == SPOTS, "%s",
          ft_error_text(m));
    e = ft_evaluate(m, data, (ft_evaluate_options){.mirrored = true, .batch_size = 7});
    CHECK(ft_error(m) == FT_OK && e.total == SPOTS, "%s", ft_error_text(m));
    for (s = 0; s < SPOTS; ++s)
        for (i = 0; i < SPOT_PIXELS; ++i) {
            input[s * SPOT_PIXELS + i] = ((float)p->grey[s][i] / 255 - 0.4f) / 0.25f;
            turned[s * SPOT_PIXELS + mirror_of(i)] = input[s * SPOT_PIXELS + i];
        }
    for (v = 0; v < 2; ++v) {
        ft_feed(m, ft_find(m, "input"), views[v], SPOTS);
        ft_feed(m, ft_find(m, "labels"), p->label, SPOTS);
        ft_forward(m, false);
        ft_get(m, ft_output(m), logits[v], SPOTS * 2);
    }
    for (s = 0; s < SPOTS; ++s) {
        int label = p->label[s];
        double gap = 0;
        for (v = 0; v < 2; ++v)
            gap += ((double)logits[v][2 * s + label] - (double)logits[v][2 * s + 1 - label]) / 2;
        loss += log(1 + exp(-gap)) / SPOTS;
        right += gap > 0;
        CHECK(best[s].class_index == (gap > 0 ? label : 1 - label)
              && CLOSE(best[s].probability, 1 / (1 + exp(-fabs(gap))), 1e-5), "%d: %d, %g, not %g", s,
              best[s].class_index, (double)best[s].probability, gap);
    }
    CHECK(e.correct == right && fabs(e.loss - loss) < 1e-5, "%d right, loss %g: not %d, %g", e.correct, e.loss,
          right, loss);
    CHECK(fabs(plain.loss - loss) > 1e-3, "the mirror images change the loss: %g, %g", plain.loss, loss);
    ft_predict_data(m, ft_arrays(m, SPOTS, input, NULL, (ft_array_options){0}), best, 1,
                    (ft_predict_options){.mirrored = true});
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "mirrored has no effect here: it is for pictures"), "%s",
          ft_error_text(m));
    ft_destroy(m);
}

typedef struct stages {
    ft_model *m;
    char names[60];
    float first[16], second[64], start[16], later[64]; /* the convolutions at the start; after the block's stage */
    int reports, stop_at;
} stages;

static bool see_stages(void *user, const ft_progress *p)
{
    stages *s = (stages *)user;
    if (p->preparing) return true;
    if (!strstr(s->names, p->stage)) {
        strcat(s->names, " ");
        strcat(s->names, p->stage);
    }
    if (p->epoch_done && !strcmp(p->stage, "block")) {
        ft_get(s->m, ft_find(s->m, "layer.0.conv.weight"), s->start, 16);
        ft_get(s->m, ft_find(s->m, "layer.1.conv.weight"), s->later, 64);
    }
    return ++s->reports != s->stop_at;
}

static void test_last_block(const spots *p)
{
    ft_model *m = spot_network();
    stages s = {.m = m};
    ft_finetune_options o = {.last_block = true, .epochs = 2, .progress = see_stages, .progress_user = &s};
    ft_get(m, ft_find(m, "layer.0.conv.weight"), s.first, 16);
    ft_get(m, ft_find(m, "layer.1.conv.weight"), s.second, 64);
    ft_finetune(m, spot_data(m, p), o);
    CHECK(ft_error(m) == FT_OK && !strcmp(s.names, " trial head block all"), "%s%s", ft_error_text(m), s.names);
    CHECK(memcmp(s.start, s.first, sizeof s.first) == 0, "the first layer was trained with the last block");
    CHECK(memcmp(s.later, s.second, sizeof s.second) != 0, "the last block was not trained");
    ft_get(m, ft_find(m, "layer.0.conv.weight"), s.start, 16);
    CHECK(memcmp(s.start, s.first, sizeof s.first) != 0, "the first layer was not trained in the last stage");
    ft_destroy(m);
}

/* The last stage, stopped and continued, averages with the weights that it began with. */
static void test_resumed_average(const spots *p)
{
    static const char path[] = "build/test_pixels.checkpoint";
    float want[80], got[80];
    double share = -1;
    int stop_at;
    for (stop_at = 0; stop_at < 400; stop_at = stop_at ? stop_at + 7 : 1) {
        ft_model *m = spot_network();
        stages s = {.m = m, .stop_at = stop_at};
        ft_finetune_options o = {.average_start = true, .hold_back = 0.2f, .epochs = 3, .learning_rate = 0.1f,
                                 .progress = see_stages, .progress_user = &s, .class_means = true,
                                 .find_flip = true, .last_block = true};
        ft_finetune_result r;
        bool in_last;
        if (stop_at > 0) o.checkpoint = path;
        remove(path);
        r = ft_finetune(m, spot_data(m, p), o);
        in_last = strstr(s.names, "all") != NULL;
        if (stop_at > 0 && r.fit.stopped) {
            ft_destroy(m);
            m = s.m = spot_network();
            s.stop_at = 0;
            r = ft_finetune(m, spot_data(m, p), o);
        } else if (stop_at > 0) stop_at = 1000;
        ft_get(m, ft_find(m, "layer.0.conv.weight"), got, 16);
        ft_get(m, ft_find(m, "layer.1.conv.weight"), got + 16, 64);
        CHECK(ft_error(m) == FT_OK && r.fit.best_epoch >= 0, "%s", ft_error_text(m));
        if (stop_at == 0) {
            memcpy(want, got, sizeof got);
            share = r.fit.end_share;
            CHECK(in_last && share < 1, "%s: %g", s.names, share);
        }
        CHECK(memcmp(got, want, sizeof got) == 0 && fabs(r.fit.end_share - share) < 1e-9,
              "stopped at report %d%s: other weights, share %g, not %g", stop_at, in_last ? " of all" : "",
              r.fit.end_share, share);
        ft_destroy(m);
    }
    remove(path);
}

static void test_recipe_candidates(void)
{
    static spots sideways, upright;
    make_spots(&sideways, false);
    make_spots(&upright, true);
    test_class_means(&sideways);
    test_means_of_few(&sideways);
    test_find_flip(&sideways, false);
    test_find_flip(&upright, true);
    test_mirrored(&sideways);
    test_last_block(&sideways);
    test_resumed_average(&sideways);
}

/* ---- Arrays of a file: tests/golden/make_numpy.py ---- */

enum { FEW = 5, HIGH = 6, WIDE = 7 };

static void check_bits(ft_model *m, ft_data *a, ft_data *b, int count, const char *what)
{
    ft_prediction x[FEW * CLASSES], y[FEW * CLASSES];
    int i;
    memset(x, 0, sizeof x);
    memset(y, 1, sizeof y);
    CHECK(a && ft_data_count(a) == count, "%s: %s", what, ft_error_text(m));
    ft_predict_data(m, a, x, CLASSES, (ft_predict_options){0});
    ft_predict_data(m, b, y, CLASSES, (ft_predict_options){0});
    CHECK(ft_error(m) == FT_OK, "%s: %s", what, ft_error_text(m));
    for (i = 0; i < count * CLASSES; ++i)
        CHECK(x[i].class_index == y[i].class_index && x[i].probability == y[i].probability, "%s: sample %d", what, i / CLASSES);
}

static ft_data *from_file(ft_model *m, ft_array_file_options o)
{
    log_text[0] = 0;
    return ft_array_file(m, "tests/golden/formats/data.npz", o);
}

/* The status, and two words of the error. */
static void no_arrays(ft_model *m, ft_array_file_options o, ft_status status, const char *word, const char *also)
{
    CHECK(!from_file(m, o) && ft_error(m) == status && strstr(ft_error_text(m), word) && strstr(ft_error_text(m), also),
          "%s: %s", word, ft_error_text(m));
    ft_clear_error(m);
}

static void test_picture_arrays(void)
{
    static const int labels[FEW] = {2, 0, 1, 0, 2};
    static uint8_t rgb[FEW][HIGH * WIDE * 3], grey[FEW][HIGH * WIDE];
    const uint8_t *at[2][FEW];
    ft_picture_size size[FEW];
    ft_model *m = network(3, 2, NULL);
    ft_data *want, *got;
    int i, k;
    for (i = 0; i < FEW; ++i) {
        for (k = 0; k < HIGH * WIDE * 3; ++k) rgb[i][k] = (uint8_t)(37 * (i * HIGH * WIDE * 3 + k) % 251);
        for (k = 0; k < HIGH * WIDE; ++k) grey[i][k] = rgb[i][3 * k];
        at[0][i] = rgb[i];
        at[1][i] = grey[i];
        size[i] = (ft_picture_size){WIDE, HIGH};
    }
    want = ft_pixels(m, FEW, at[0], size, labels, (ft_pixels_options){0});
    got = from_file(m, (ft_array_file_options){0});
    CHECK(strstr(log_text, "5 pictures of 7 x 6 pixels and 3 channels [N, H, W, C]") && strstr(log_text, "y: their labels"),
          "%s", log_text);
    CHECK(got && ft_data_classes(got) == 3, "classes");
    for (i = 0; got && i < FEW; ++i) CHECK(ft_data_label(got, i) == labels[i], "label %d", i);
    check_bits(m, got, want, FEW, "[N, H, W, C]");
    ft_data_free(got);
    check_bits(m, from_file(m, (ft_array_file_options){.samples = "first", .labels = "signed"}), want, FEW, "[N, C, H, W]");
    check_bits(m, from_file(m, (ft_array_file_options){.evaluation = true, .classes = 3}), want, 2, "x_test");
    want = ft_pixels(m, FEW, at[1], size, labels, (ft_pixels_options){.channels = 1});
    check_bits(m, from_file(m, (ft_array_file_options){.samples = "grey"}), want, FEW, "[N, H, W]");
    no_arrays(m, (ft_array_file_options){.samples = "small", .labels = "small_y"}, FT_INVALID, "layout", "small");
    got = from_file(m, (ft_array_file_options){.samples = "small", .labels = "small_y", .layout = FT_LAYOUT_NHWC});
    CHECK(got && strstr(log_text, "4 x 3 pixels"), "[N, H, W, C] chosen: %s %s", log_text, ft_error_text(m));
    got = from_file(m, (ft_array_file_options){.samples = "small", .labels = "small_y", .layout = FT_LAYOUT_NCHW});
    CHECK(got && strstr(log_text, "3 x 4 pixels"), "[N, C, H, W] chosen: %s %s", log_text, ft_error_text(m));
    no_arrays(m, (ft_array_file_options){.samples = "first", .layout = FT_LAYOUT_NHWC}, FT_SHAPE, "first", "expected");
    no_arrays(m, (ft_array_file_options){.samples = "grey", .layout = FT_LAYOUT_NHWC}, FT_INVALID, "layout", "effect");
    no_arrays(m, (ft_array_file_options){.labels = "floats"}, FT_INVALID, "floats", "whole numbers");
    no_arrays(m, (ft_array_file_options){.labels = "wrong"}, FT_INVALID, "wrong[1] is -1", "at least 0");
    no_arrays(m, (ft_array_file_options){.labels = "small_y"}, FT_SHAPE, "small_y", "5 samples");
    no_arrays(m, (ft_array_file_options){.samples = "nothing"}, FT_INVALID, "nothing", "must name one of x, y");
    no_arrays(m, (ft_array_file_options){.classes = 2}, FT_INVALID, "2", "below");
    no_arrays(m, (ft_array_file_options){.samples = "last"}, FT_SHAPE, "last is [4, 8, 8, 3]", "expected");
    ft_destroy(m);
}

/* A linear layer on 3 x 8 x 8 numbers, of classes or, with one output, of the node "target". */
static ft_model *on_numbers(int outputs)
{
    ft_model *m = ft_create((ft_desc){.log = collect, .seed = 3, .threads = 1});
    ft_node x = ft_flatten(m, NULL, ft_input(m, "input", (ft_input_options){.size = {3, 8, 8}})), y;
    ft_set_output(m, ft_linear(m, "fc", x, outputs, (ft_linear_options){0}));
    y = ft_input(m, outputs > 1 ? "labels" : "target", outputs > 1 ? (ft_input_options){.type = FT_I32}
                 : (ft_input_options){.size = {1}});
    ft_set_loss(m, outputs > 1 ? ft_cross_entropy(m, "loss", ft_output(m), y, (ft_loss_options){0})
                : ft_mse(m, "loss", ft_output(m), y));
    return m;
}

static void test_number_arrays(void)
{
    static float values[4 * 3 * 8 * 8];
    static const int labels[4] = {2, 0, 1, 0};
    static const float targets[4] = {0.5f, 0, 0.25f, 0};
    ft_model *m = on_numbers(CLASSES);
    ft_data *got;
    ft_evaluation a, b;
    int n, c, k;
    for (n = 0; n < 4; ++n)
        for (c = 0; c < 3; ++c)
            for (k = 0; k < 64; ++k) values[(n * 3 + c) * 64 + k] = (float)((n * 64 + k) * 3 + c) / 8;
    got = from_file(m, (ft_array_file_options){.samples = "last", .labels = "four"});
    CHECK(strstr(log_text, "4 samples of F32, used as they are [N, H, W, C]"), "%s", log_text);
    check_bits(m, got, ft_arrays(m, 4, values, labels, (ft_array_options){0}), 4, "numbers [N, H, W, C]");
    got = from_file(m, (ft_array_file_options){.samples = "plain", .labels = "four"});
    check_bits(m, got, ft_arrays(m, 4, values, labels, (ft_array_options){0}), 4, "numbers [N, C, H, W]");
    no_arrays(m, (ft_array_file_options){.samples = "last", .labels = "y"}, FT_SHAPE, "y", "4 samples");
    no_arrays(m, (ft_array_file_options){0}, FT_SHAPE, "x is [5, 6, 7, 3]", "expected");
    no_arrays(m, (ft_array_file_options){.input = "pixels"}, FT_INVALID, "pixels", "no input");
    no_arrays(m, (ft_array_file_options){.samples = "last", .labels = "four", .augmentation = {.flip = true}}, FT_INVALID,
            "augmentation", "effect");
    ft_destroy(m);
    m = on_numbers(1); /* targets */
    a = ft_evaluate(m, from_file(m, (ft_array_file_options){.samples = "last", .labels = "goals"}), (ft_evaluate_options){0});
    b = ft_evaluate(m, ft_arrays(m, 4, values, NULL, (ft_array_options){.targets = targets, .target_size = 1}),
                    (ft_evaluate_options){0});
    CHECK(ft_error(m) == FT_OK && a.loss > 0 && a.loss == b.loss, "%s: %g and %g", ft_error_text(m), a.loss, b.loss);
    no_arrays(m, (ft_array_file_options){.samples = "last", .labels = "floats"}, FT_SHAPE, "floats", "4 samples");
    ft_destroy(m);
}

int main(void)
{
    pictures p;
    make_pictures(&p);
    test_as_a_folder(&p);
    test_channels(&p);
    test_predict(&p);
    test_predict_two_inputs();
    test_groups(&p);
    test_kept(&p);
    test_errors(&p);
    test_recipe_candidates();
    test_no_memory(&p);
    free_pictures(&p);
    test_picture_arrays();
    test_number_arrays();
    return check_done("test_pixels");
}
