/* test_cache.c - outputs of frozen layers that are kept for the next run (ft_desc.cache): the same
   bits with and without them, no sample read if all of them are there, and no use of a file that
   was made from something else, cut, or changed in any byte. */
#include "public.h"

#include <dirent.h>
#include <sys/stat.h>

enum { SAMPLES = 40, SIDE = 6, PIXELS = SIDE * SIDE };
static const char folder[] = "build/kept_by_test";

typedef struct pictures {
    float values[SAMPLES][PIXELS];
    int labels[SAMPLES];
    int asked;              /* calls of get() */
} pictures;

static pictures data;
static int lines;           /* in the log that say "computed again" */

static void make_pictures(void)
{
    unsigned state = 5;
    int s, i;
    memset(&data, 0, sizeof data);
    for (s = 0; s < SAMPLES; ++s) {
        data.labels[s] = s % 2;
        for (i = 0; i < PIXELS; ++i) {
            state = state * 1664525u + 1013904223u;
            data.values[s][i] = (float)(state >> 8) / 16777216.0f
                              + (float)(s % 2 ? i & 1 : i / SIDE & 1);
        }
    }
}

/* A view is the picture times a number; sample 7 cannot be read. */
static bool get(void *user, int index, int view, ft_slot *slots, int count)
{
    pictures *p = (pictures *)user;
    int s, i;
    __atomic_add_fetch(&p->asked, 1, __ATOMIC_SEQ_CST);
    for (s = 0; s < count; ++s) {
        if (strcmp(slots[s].name, "labels") == 0)
            memcpy(slots[s].values, &p->labels[index], sizeof(int));
        else
            for (i = 0; i < PIXELS; ++i)
                ((float *)slots[s].values)[i] = p->values[index][i] * (1 + 0.1f * (float)view);
    }
    return index != 7;
}

static uint64_t digest(void *user, int index, int view)
{
    const pictures *p = (const pictures *)user;
    return hash_bytes((uint64_t)(2 * view + p->labels[index]), p->values[index],
                      sizeof p->values[index]);
}

static void count_lines(void *user, const char *line)
{
    (void)user;
    if (strstr(line, "computed again")) lines += 1;
}

static ft_model *new_model(const char *cache, float first_weight)
{
    ft_desc desc = {.seed = 4, .threads = 2, .log = count_lines};
    ft_input_options picture = {.size = {1, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_batch_norm_options norm = {.eps = 0};
    ft_activation_options none = {.slope = 0};
    ft_linear_options linear = {.no_bias = false};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_model *m;
    ft_node x;
    float weights[36];
    desc.cache = cache;
    m = ft_create(desc);
    x = ft_conv2d(m, "conv", ft_input(m, "input", picture), 4, conv);
    x = ft_activation(m, "relu", "relu", ft_batch_norm(m, "bn", x, norm), none);
    x = ft_flatten(m, "flatten", ft_global_avg_pool(m, "pool", x));
    x = ft_linear(m, "fc", x, 2, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
    ft_get(m, ft_find(m, "conv.weight"), weights, 36);
    if (first_weight != 0) weights[0] = first_weight;
    ft_set(m, ft_find(m, "conv.weight"), weights, 36);
    ft_freeze(m, "*");
    ft_unfreeze(m, "fc.*");
    return m;
}

typedef struct run { const char *cache; size_t bytes; bool augment; float weight; } run;

/* A hash of the head after training; data.asked and lines count from 0. */
static uint64_t fit(run r)
{
    ft_source source = {.user = &data, .count = SAMPLES, .classes = 2, .get = get,
                        .digest = digest};
    ft_fit_options o = {.epochs = 3, .batch_size = 8, .hold_back = 0.2f};
    ft_model *m = new_model(r.cache, r.weight);
    float head[8];
    data.asked = lines = 0;
    o.cache_bytes = r.bytes;
    o.augment = r.augment;
    o.views = r.augment ? 2 : 0;
    o.optimizer.learning_rate = 0.05f;
    ft_fit(m, ft_data_source(m, source), o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    memset(head, 0, sizeof head);
    ft_get(m, ft_find(m, "fc.weight"), head, 8);
    ft_destroy(m);
    return hash_bytes(0, head, sizeof head);
}

/* A file of the folder, "" where it is empty; no half-written one may be there, and no folder. */
static void find_file(char path[300])
{
    DIR *opened = opendir(folder);
    const struct dirent *entry;
    struct stat status;
    path[0] = 0;
    while (opened && (entry = readdir(opened)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, 300, "%s/%s", folder, entry->d_name);
        CHECK(stat(path, &status) == 0 && S_ISREG(status.st_mode) && !strstr(path, "partial"),
              "%s was left", path);
    }
    if (opened) closedir(opened);
}

static void empty_folder(void)
{
    char path[300];
    for (find_file(path); path[0]; find_file(path)) remove(path);
}

static void test_same_bits(run r)
{
    run without = r;
    uint64_t want;
    int rows = r.augment ? 8 + 2 * 32 : SAMPLES;
    empty_folder();
    without.cache = NULL;
    without.bytes = 0;
    want = fit(without);
    CHECK(fit(r) == want, "bytes %zu, augmented %d: other bits when it is made", r.bytes,
          r.augment);
    CHECK(data.asked >= rows - 2 && data.asked <= rows, "%d samples were asked for", data.asked);
    CHECK(fit(r) == want, "other bits from the last run's");
    CHECK(data.asked <= 2, "%d samples were asked for again, only the unreadable one may be",
          data.asked);
}

static void test_stale(void)
{
    run r = {folder, 0, false, 0}, other = {folder, 0, false, 0.5f}, plain = {NULL, 0, false, 0.5f};
    uint64_t first, want;
    float kept;
    empty_folder();
    first = fit(r);
    want = fit(plain);
    CHECK(want != first, "a weight of the frozen layer makes no difference");
    CHECK(fit(other) == want, "rows of other weights were taken");
    CHECK(data.asked == SAMPLES && lines == 1, "%d samples, %d lines", data.asked, lines);
    CHECK(fit(other) == want && data.asked == 1, "%d samples", data.asked);
    kept = data.values[3][5];
    data.values[3][5] = 9;
    plain.weight = 0.5f;
    want = fit(plain);
    CHECK(fit(other) == want, "the row of another picture was taken");
    CHECK(data.asked == 2, "%d samples: one changed, one cannot be read", data.asked);
    data.labels[4] = 1;
    want = fit(plain);
    CHECK(fit(other) == want && data.asked == 2, "a row with another label was taken");
    data.labels[4] = 0;
    data.values[3][5] = kept;
}

/* Every byte flipped in one bit, and the file cut everywhere. */
static void test_damaged(size_t bytes)
{
    run r = {folder, 0, false, 0};
    uint64_t want;
    char path[300];
    unsigned char content[8192];
    size_t size, i, asked = 0;
    FILE *file;
    r.bytes = bytes;
    empty_folder();
    want = fit(r);
    find_file(path);
    file = fopen(path, "rb");
    CHECK(file != NULL, "no file was written");
    if (!file) return;
    size = fread(content, 1, sizeof content, file);
    fclose(file);
    CHECK(size == 32 + (SAMPLES - 1) * (16 + 5 * sizeof(float)), "%zu bytes", size);
    for (i = 0; i < 2 * size; i += i < 40 ? 1 : 1 + i % 13) {
        bool cut = i >= size;
        size_t at = cut ? i - size : i;
        if (!cut) content[at] = (unsigned char)(content[at] ^ (1u << (i % 8)));
        file = fopen(path, "wb");
        fwrite(content, 1, cut ? at : size, file);
        fclose(file);
        CHECK(fit(r) == want, "byte %zu %s: other bits", at, cut ? "is the end" : "flipped");
        CHECK(data.asked > 1, "byte %zu %s: taken as it was", at, cut ? "is the end" : "flipped");
        asked += (size_t)data.asked;
        if (!cut) content[at] = (unsigned char)(content[at] ^ (1u << (i % 8)));
    }
    CHECK(asked > 0, "damaged in no way");
}

static void test_no_folder(void)
{
    run r = {"build/kept_by_test/not/there", 0, false, 0}, without = {NULL, 0, false, 0};
    uint64_t want = fit(without);
    CHECK(fit(r) == want && lines == 0, "a folder that is not there: %d lines", lines);
    r.bytes = 1;
    fit(r);
    CHECK(lines == 1, "rows on a disk that does not take them: %d lines", lines);
}

/* ---- Sequences: rows of different lengths, in memory ---- */
enum { LONGEST = 9 };

static int steps_of(int index, int view) { return 1 + (index * 5 + 3) % LONGEST - (view && index % 3 ? 1 : 0); }

static int longest_view(void *user, int index)
{
    (void)user;
    return steps_of(index, 0);
}

/* Sample 7 cannot be read; an augmented view of some has one step less. */
static bool get_words(void *user, int index, int view, ft_slot *slots, int count)
{
    pictures *p = (pictures *)user;
    int32_t steps = steps_of(index, view) > 0 ? steps_of(index, view) : 1;
    int s, i;
    __atomic_add_fetch(&p->asked, 1, __ATOMIC_SEQ_CST);
    for (s = 0; s < count; ++s) {
        int32_t *to = (int32_t *)slots[s].values;
        if (!strcmp(slots[s].name, "labels")) *to = p->labels[index];
        if (!strcmp(slots[s].name, "lengths")) *to = steps;
        if (strcmp(slots[s].name, "tokens") != 0) continue;
        for (i = 0; i < steps; ++i) to[i] = (index + i * (2 + p->labels[index]) + view) % 20;
        slots[s].length = steps;
    }
    return index != 7;
}

/* A hash of all weights after training the upper layer of an encoder or of an LSTM, and the head. */
static uint64_t fit_words(const char *network, const char *frozen, bool cached, bool augment, int *asked)
{
    ft_model *m = ft_create((ft_desc){.seed = 4, .threads = 2, .log = count_lines});
    ft_fit_options o = {.epochs = 3, .batch_size = 8, .hold_back = 0.2f, .augment = augment};
    ft_source source = {.user = &data, .count = SAMPLES, .classes = 2, .get = get_words, .length = longest_view};
    uint64_t hash = 0;
    int i;
    ft_network(m, network, (ft_network_options){.classes = 2, .words = 20, .hidden = 16, .layers = 2,
        .heads = !strcmp(network, "bert") ? 2 : 0, .dropout = 0.1f});
    ft_freeze(m, frozen);
    o.no_cache = !cached;
    o.views = cached && augment ? 3 : 0;
    o.optimizer.learning_rate = 0.01f;
    data.asked = 0;
    ft_fit(m, ft_data_source(m, source), o);
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
    for (i = 1; i <= ft_node_count(m); ++i) {
        ft_node node = {i};
        float *values;
        if (!is_weight(m, node)) continue;
        values = weight_of(m, node);
        hash = hash_bytes(hash, values, numbers_of(m, node) * sizeof *values);
        free(values);
    }
    *asked = data.asked;
    ft_destroy(m);
    return hash;
}

static void test_words(void)
{
    static const struct { const char *network, *frozen; } rows[] = {
        {"bert", "embeddings*,encoder.layer.0.*"}, {"bert", "embeddings*,encoder.layer.[01].*"},
        {"lstm_classifier", "embedding*,*_l0"}};
    size_t r;
    int augment;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r)
        for (augment = 0; augment < 2; ++augment) {
            int kept, again;
            uint64_t a = fit_words(rows[r].network, rows[r].frozen, true, augment != 0, &kept);
            uint64_t b = fit_words(rows[r].network, rows[r].frozen, false, augment != 0, &again);
            CHECK(a == b, "%s, %s, augment %d: other bits with the cache", rows[r].network, rows[r].frozen, augment);
            CHECK(kept == (augment ? 8 + 3 * 32 : SAMPLES) && again >= 3 * SAMPLES - 3,
                  "%s, %s, augment %d: %d samples were read, %d without the cache", rows[r].network,
                  rows[r].frozen, augment, kept, again);
        }
}

int main(void)
{
    run plain = {folder, 0, false, 0}, disk = {folder, 1, false, 0};
    make_pictures();
    mkdir(folder, 0777);
    test_same_bits(plain);
    test_same_bits(disk);
    plain.augment = disk.augment = true;
    test_same_bits(plain);
    test_same_bits(disk);
    test_stale();
    test_damaged(0);
    test_damaged(1);
    test_no_folder();
    test_words();
    empty_folder();
    return check_done("test_cache");
}
