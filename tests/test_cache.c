/* test_cache.c - outputs of frozen layers that are kept for the next run (ft_desc.cache): the same
   bits with and without them, no sample read if all of them are there, and no use of a file that
   was made from something else, cut, or changed in any byte. And sweeps, whose runs share them: which
   setting wins, what is dropped, and that a sweep that was killed ends as one that was not. */
#include "public.h"
#include "host_files.h"

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

/* A hash of all weights after training the upper layer of an encoder or of an LSTM, and the head. `off`: dropout too
   is frozen. */
static uint64_t fit_words(const char *network, const char *frozen, bool off, bool cached, bool augment, int *asked)
{
    ft_model *m = ft_create((ft_desc){.seed = 4, .threads = 2, .log = count_lines});
    ft_fit_options o = {.epochs = 3, .batch_size = 8, .hold_back = 0.2f, .augment = augment};
    ft_source source = {.user = &data, .count = SAMPLES, .classes = 2, .get = get_words, .length = longest_view};
    uint64_t hash;
    ft_network(m, network, (ft_network_options){.classes = 2, .words = 20, .hidden = 16, .layers = 2,
        .heads = !strcmp(network, "bert") ? 2 : 0, .dropout = 0.1f});
    ft_freeze(m, frozen);
    if (off) ft_freeze(m, "*dropout");
    o.no_cache = !cached;
    o.views = cached && augment ? 3 : 0;
    o.optimizer.learning_rate = 0.01f;
    data.asked = 0;
    ft_fit(m, ft_data_source(m, source), o);
    CHECK(ft_error(m) == FT_OK, "%s: %s", network, ft_error_text(m));
    hash = fingerprint(m);
    *asked = data.asked;
    ft_destroy(m);
    return hash;
}

/* What is before the first trained parameter, or the first dropout that is active, is computed once for each view. */
static void test_words(void)
{
    static const struct { const char *network, *frozen; bool drops, cheap; } rows[] = {
        {"bert", "embeddings*,encoder.layer.0.*", false, false}, {"bert", "embeddings*,encoder.layer.[01].*", true, false},
        {"lstm_classifier", "embedding*,*_l0", false, false}, {"lstm_classifier", "embedding*,lstm*", true, false},
        {"bert", "embeddings*", false, true}, /* embeddings alone are looked up again */
        {"bert", "embeddings.*.weight,embeddings.*.bias,encoder*.weight,encoder*.bias", true, true}};
    size_t r;
    int augment;
    for (r = 0; r < sizeof rows / sizeof rows[0]; ++r)
        for (augment = 0; augment < 2; ++augment) {
            int kept, again;
            uint64_t a = fit_words(rows[r].network, rows[r].frozen, false, true, augment != 0, &kept);
            uint64_t b = fit_words(rows[r].network, rows[r].frozen, false, false, augment != 0, &again);
            bool cheap = rows[r].cheap && !augment;
            CHECK(a == b, "%s, %s, augment %d: other bits with the cache", rows[r].network, rows[r].frozen, augment);
            CHECK((cheap ? kept == again : kept == (augment ? 8 + 3 * 32 : SAMPLES)) && again >= 3 * SAMPLES - 3,
                  "%s, %s, augment %d: %d samples were read, %d without the cache", rows[r].network,
                  rows[r].frozen, augment, kept, again);
            if (rows[r].drops) /* nowhere but before the first trained parameter */
                CHECK(fit_words(rows[r].network, rows[r].frozen, true, true, augment != 0, &kept) != a,
                      "%s, %s, augment %d: nothing is dropped", rows[r].network, rows[r].frozen, augment);
        }
}

/* ---- Sweeps ---- */
enum { SWEPT = 150, KINDS = 3, MOST_ROWS = 20, MOST_MADE = 400, SWEEP_EPOCHS = 9 };
static const char state[] = "build/sweep_by_test.json";

static float swept[SWEPT][PIXELS];

static void make_swept(void)
{
    unsigned random = 11;
    int s, i;
    for (s = 0; s < SWEPT; ++s)
        for (i = 0; i < PIXELS; ++i) {
            int y = i / SIDE, x = i % SIDE, kind = s % KINDS;
            random = random * 1664525u + 1013904223u;
            swept[s][i] = (float)(random >> 8) / 16777216.0f * 1.6f
                        + (float)(kind == 0 ? y & 1 : kind == 1 ? x & 1 : y > 0 && y < 5 && x > 0 && x < 5);
        }
}

/* A view is the picture times a number. */
static bool get_swept(void *user, int index, int view, ft_slot *slots, int count)
{
    int s, i;
    __atomic_add_fetch((int *)user, 1, __ATOMIC_SEQ_CST);
    for (s = 0; s < count; ++s) {
        if (strcmp(slots[s].name, "labels") == 0) *(int32_t *)slots[s].values = index % KINDS;
        else
            for (i = 0; i < PIXELS; ++i)
                ((float *)slots[s].values)[i] = swept[index][i] * (1 + 0.02f * (float)view);
    }
    return true;
}

static int swept_label(void *user, int index)
{
    (void)user;
    return index % KINDS;
}

/* Files without a wait for the disk: a sweep writes hundreds. */
static void *quick_open(void *user, const char *path, bool write)
{
    struct stat status;
    (void)user;
    if (write ? access(path, F_OK) == 0 : stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return NULL;
    return fopen(path, write ? "wb" : "rb");
}

/* One epoch of one run, as progress and the log reported it. */
typedef struct made { char setting[200]; int seed, until, epoch; double accuracy, loss; } made;

typedef struct sweeping {
    int asked, calls, stop_at; /* get(); progress(), which stops or ends the process at this one */
    bool kills;
    double clock;           /* goes on by `tick` with each call */
    double tick;
    made epochs[MOST_MADE];
    int count;
    char setting[200];
    int seed, until;
    ft_sweep_row rows[MOST_ROWS];
    int row_count;
} sweeping;

static void note_run(void *user, const char *line)
{
    sweeping *s = (sweeping *)user;
    char text[200];
    int seed, until;
    if (sscanf(line, "sweep: %199[^\n]", text) != 1 || !strstr(text, ", seed ")) return;
    if (sscanf(strstr(text, ", seed "), ", seed %d, to epoch %d", &seed, &until) != 2) return;
    *strstr(text, ", seed ") = 0;
    snprintf(s->setting, sizeof s->setting, "%s", text);
    s->seed = seed;
    s->until = until;
}

static bool note_epoch(void *user, const ft_progress *p)
{
    sweeping *s = (sweeping *)user;
    if (p->epoch_done && s->count < MOST_MADE) {
        made *e = &s->epochs[s->count++];
        memcpy(e->setting, s->setting, sizeof e->setting);
        e->seed = s->seed;
        e->until = s->until;
        e->epoch = p->epoch + 1;
        e->accuracy = p->held_back_accuracy;
        e->loss = p->held_back_loss;
    }
    s->calls += 1;
    if (s->calls == s->stop_at && s->kills) _exit(7);
    return s->calls != s->stop_at;
}

static double tick(void *user)
{
    sweeping *s = (sweeping *)user;
    return s->clock += s->tick;
}

static void keep_row(void *user, const ft_sweep_row *row)
{
    sweeping *s = (sweeping *)user;
    if (s->row_count < MOST_ROWS) s->rows[s->row_count++] = *row;
}

static ft_model *swept_model(sweeping *s, const char *cache, uint64_t seed)
{
    ft_desc desc = {.seed = seed, .threads = 1, .log = note_run, .log_user = s,
                    .files = host_files(quick_open)};
    ft_input_options picture = {.size = {1, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_batch_norm_options norm = {.eps = 0};
    ft_activation_options none = {.slope = 0};
    ft_linear_options linear = {.no_bias = false};
    ft_loss_options loss = {.label_smoothing = 0};
    ft_model *m;
    ft_node x;
    desc.cache = cache;
    if (s->tick > 0) {
        desc.clock = tick;
        desc.clock_user = s;
    }
    m = ft_create(desc);
    x = ft_conv2d(m, "conv", ft_input(m, "input", picture), 8, conv);
    x = ft_activation(m, "relu", "relu", ft_batch_norm(m, "bn", x, norm), none);
    x = ft_flatten(m, "flatten", ft_global_avg_pool(m, "pool", x));
    x = ft_linear(m, "fc", x, KINDS, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
    return m;
}

static ft_data *swept_data(ft_model *m, sweeping *s)
{
    ft_source source = {.user = &s->asked, .count = SWEPT, .classes = KINDS, .get = get_swept,
                        .label = swept_label};
    return ft_data_source(m, source);
}

static const float swept_rates[] = {1e-7f, 0.03f, 1e30f};
static const char *const swept_freeze[] = {"", "conv*,bn*"};
static const char *const swept_kinds[] = {"", "tanh"};
static const char *const swept_losses[] = {"cross_entropy", "focal"};
static const char *const swept_optimizers[] = {"adamw", "lion"};

static ft_sweep_options swept_options(sweeping *s)
{
    ft_sweep_options o;
    memset(&o, 0, sizeof o);
    o.learning_rates = swept_rates;
    o.learning_rate_count = 3;
    o.freeze = swept_freeze;
    o.freeze_count = 2;
    o.activations = swept_kinds;
    o.activation_count = 2;
    o.finetune.epochs = SWEEP_EPOCHS;
    o.finetune.batch_size = 8;
    o.finetune.progress = note_epoch;
    o.finetune.progress_user = s;
    o.finetune.hold_back = 0.3f;
    o.row = keep_row;
    o.row_user = s;
    return o;
}

/* Removes the state of a sweep; returns how many checkpoints were left beside it. */
static int remove_files(void)
{
    char path[300];
    int i, k, left = 0;
    remove(state);
    for (i = 0; i < MOST_ROWS; ++i)
        for (k = 0; k < 3; ++k) {
            snprintf(path, sizeof path, "%s.%d-%d", state, i, k);
            left += remove(path) == 0;
        }
    return left;
}

static void remove_state(void)
{
    int left = remove_files();
    CHECK(left == 0, "%d checkpoints were left", left);
}

/* The best epoch of a run up to this one: the most right, of as many the lower loss. */
static const made *best_epoch(const sweeping *s, const char *setting, int seed, int until)
{
    const made *best = NULL;
    int i;
    for (i = 0; i < s->count; ++i) {
        const made *e = &s->epochs[i];
        if (strcmp(e->setting, setting) != 0 || e->seed != seed || e->epoch > until) continue;
        if (!best || e->accuracy > best->accuracy
            || (e->accuracy == best->accuracy && e->loss < best->loss)) best = e;
    }
    return best;
}

static const char *setting_text(const ft_sweep_row *r, char text[200])
{
    snprintf(text, 200, "learning rate %g", (double)r->learning_rate);
    if (r->freeze) snprintf(text + strlen(text), 200 - strlen(text), ", freeze \"%s\"", r->freeze);
    if (r->activation)
        snprintf(text + strlen(text), 200 - strlen(text), ", activation %s",
                 *r->activation ? r->activation : "as it is");
    if (r->loss) snprintf(text + strlen(text), 200 - strlen(text), ", loss %s", r->loss);
    if (r->optimizer) snprintf(text + strlen(text), 200 - strlen(text), ", optimizer %s", r->optimizer);
    return text;
}

/* Each row is what progress reported of its runs, and what went further was not worse. */
static void check_rows(const sweeping *s, int seeds, int cut)
{
    char text[200], other[200];
    int i, j, k;
    for (i = 0; i < s->row_count; ++i) {
        const ft_sweep_row *r = &s->rows[i];
        double mean = 0;
        setting_text(r, text);
        CHECK(r->place == i + 1 && (i == 0 || s->rows[i - 1].epochs >= r->epochs), "%s is in place %d", text,
              r->place);
        CHECK(r->failed == (r->learning_rate > 1), "%s failed: %d", text, r->failed);
        if (r->failed) CHECK(r->differs && r->p == 1, "%s: p %g", text, r->p);
        if (r->failed || r->epochs == 0) continue;
        for (k = 0; k < seeds; ++k) {
            const made *e = best_epoch(s, text, 4 + k, r->epochs);
            CHECK(e != NULL, "%s, seed %d: was not trained", text, 4 + k);
            if (e) mean += e->accuracy / seeds;
        }
        CHECK(CLOSE(r->value, mean, 1e-7) && r->low <= r->value && r->high >= r->value && r->high > r->low,
              "%s: %.9f (%.3f to %.3f), progress said %.9f", text, r->value, r->low, r->high, mean);
        for (j = 0; j < i && cut > 1; ++j) { /* as it was when this one was dropped */
            const ft_sweep_row *better = &s->rows[j];
            double then = 0;
            for (k = 0; k < seeds; ++k) {
                const made *e = best_epoch(s, setting_text(better, other), 4 + k, r->epochs);
                if (e) then += e->accuracy / seeds;
            }
            CHECK(then >= r->value - 1e-9, "%s had %.4f after %d epochs, %s only %.4f", text, r->value,
                  r->epochs, other, then);
            if (j == 0) CHECK(CLOSE(r->best, then, 1e-7), "%s: the winner had %.4f then, not %.4f", text, then, r->best);
        }
    }
}

/* The best setting is known: one rate does not learn, one is not finite. The model is then as after
   ft_finetune with that setting alone, though its run stopped twice and others ran between. */
static void test_sweep(void)
{
    static sweeping s, alone;
    ft_finetune_options how;
    ft_activation_options none = {.slope = 0};
    ft_sweep_options o = swept_options(&s);
    ft_model *m = swept_model(&s, NULL, 4), *other;
    ft_sweep_result r;
    int i, trained = 0, equal = 0, undecided = 0;
    memset(&s, 0, sizeof s);
    r = ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK && !r.stopped && !r.timed_out, "%s", ft_error_text(m));
    CHECK(r.settings == 12 && s.row_count == 12 && r.epochs == SWEEP_EPOCHS, "%d settings, %d rows, %d epochs",
          r.settings, s.row_count, r.epochs);
    CHECK(r.winner.learning_rate == 0.03f && !strcmp(r.winner.freeze, "") && r.winner.value > 0.8,
          "\"%s\": %.3f", r.choice, r.winner.value);
    CHECK(memcmp(&r.winner, &s.rows[0], sizeof r.winner) == 0, "the first row is the winner's");
    check_rows(&s, 1, 3);
    for (i = 0; i < 12; ++i) {
        trained += s.rows[i].epochs == SWEEP_EPOCHS;
        CHECK(s.rows[i].memory > 0, "no memory");
    }
    /* 12 settings for one epoch, 4 for 3, 2 for 9; a third is not finite before its first epoch ends */
    CHECK(trained == 2 && s.count == 8 + 4 * 2 + 2 * 6, "%d trained to the end, %d epochs", trained, s.count);
    for (i = 1; i < 12; ++i) {
        equal += s.rows[i].epochs == SWEEP_EPOCHS && !s.rows[i].differs;
        undecided += s.rows[i].epochs < SWEEP_EPOCHS && !s.rows[i].differs;
    }
    CHECK(r.samples == 45 && r.equal == equal && r.undecided == undecided, "%d held-back samples, %d equal, %d"
          " undecided", r.samples, r.equal, r.undecided);
    memset(&alone, 0, sizeof alone);
    how = o.finetune;
    how.progress_user = &alone;
    how.schedule = "cosine";
    how.learning_rate = r.winner.learning_rate;
    how.freeze = r.winner.freeze;
    other = swept_model(&alone, NULL, 4);
    if (*r.winner.activation) ft_swap_activations(other, "*", r.winner.activation, none);
    CHECK(ft_finetune(other, swept_data(other, &alone), how).fit.held_back_accuracy == r.winner.value
          && r.fit.held_back_accuracy == r.winner.value && !r.fit.stopped && r.fit.epochs == SWEEP_EPOCHS,
          "the winner's score is not that of its run alone");
    CHECK(fingerprint(other) == fingerprint(m), "its weights are not those of its run alone");
    CHECK(!strcmp(ft_node_operator(m, ft_find(m, "relu")), *r.winner.activation ? "tanh" : "relu"), "%s",
          ft_node_operator(m, ft_find(m, "relu")));
    ft_destroy(other);
    ft_destroy(m);
    remove_state();
}

/* All trained to the end. The winner has all right, so that McNemar's exact p of a setting with n
   mistakes is 2 * 0.5^n, and Holm's correction of it is computed by its definition. */
static void test_sweep_compares(void)
{
    static sweeping s;
    ft_sweep_options o = swept_options(&s);
    ft_model *m = swept_model(&s, NULL, 4);
    double p[8];
    int i, j, k, some = 0;
    memset(&s, 0, sizeof s);
    o.learning_rate_count = 2;
    o.cut = 1;
    ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK && s.row_count == 8 && s.rows[0].value == 1, "%s: %d rows, the winner has %.3f",
          ft_error_text(m), s.row_count, s.rows[0].value);
    CHECK(s.count == 8 * SWEEP_EPOCHS, "%d epochs", s.count);
    check_rows(&s, 1, 1);
    for (i = 1; i < 8; ++i) {
        p[i] = 2 * pow(0.5, floor((1 - s.rows[i].value) * 45 + 0.5));
        if (p[i] > 1) p[i] = 1;
    }
    for (i = 1; i < 8; ++i) {
        double want = 0;
        for (j = 1; j < 8; ++j) { /* those that are not larger; each times those that are not smaller than it */
            int not_smaller = 0;
            for (k = 1; k < 8; ++k) not_smaller += p[k] >= p[j];
            if (p[j] <= p[i] && p[j] * not_smaller > want) want = p[j] * not_smaller;
        }
        if (want > 1) want = 1;
        CHECK(CLOSE(s.rows[i].p, want, 1e-9 * want) && s.rows[i].differs == (want < 0.05), "row %d: p %g, not %g", i,
              s.rows[i].p, want);
        some += want > 0 && want < 0.05;
    }
    CHECK(some > 1 && some < 7 && s.rows[0].p == 1 && !s.rows[0].differs, "%d differ", some);
    ft_destroy(m);
    remove_state();
}

/* Every list, several seeds, and as many as are drawn of all. */
static void test_sweep_lists(void)
{
    static sweeping s;
    ft_sweep_options o = swept_options(&s);
    ft_model *m = swept_model(&s, NULL, 4);
    ft_sweep_result r;
    int i, j;
    memset(&s, 0, sizeof s);
    o.learning_rate_count = 2;
    o.losses = swept_losses;
    o.loss_count = 2;
    o.optimizers = swept_optimizers;
    o.optimizer_count = 2;
    o.seeds = 2;
    o.draws = 7;
    o.cut = 2;
    o.finetune.epochs = 4;
    r = ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK && r.settings == 7 && s.row_count == 7, "%s: %d settings", ft_error_text(m), r.settings);
    check_rows(&s, 2, 2);
    for (i = 0; i < 7; ++i)
        for (j = 0; j < i; ++j) {
            char a[200], b[200];
            CHECK(strcmp(setting_text(&s.rows[i], a), setting_text(&s.rows[j], b)) != 0, "%s twice", a);
        }
    CHECK(s.count == 2 * (7 + 4 + 2 * 2), "%d epochs", s.count);
    ft_destroy(m);
    remove_state();
}

/* A sweep in a new process, or with a new model. */
static uint64_t sweep_again(sweeping *s, int stop_at, bool kills, ft_sweep_result *r)
{
    ft_sweep_options o = swept_options(s);
    ft_model *m;
    uint64_t hash;
    memset(s, 0, sizeof *s);
    s->stop_at = stop_at;
    s->kills = kills;
    o.learning_rate_count = 2;
    o.freeze_count = 2;
    o.activation_count = 1;
    o.seeds = 2;
    m = swept_model(s, NULL, 4);
    hash = fingerprint(m);
    *r = ft_sweep(m, swept_data(m, s), state, o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    if (r->stopped) CHECK(fingerprint(m) == hash, "a sweep that was stopped changed the model");
    hash = fingerprint(m);
    ft_destroy(m);
    return hash;
}

static bool same_rows(const sweeping *a, const sweeping *b)
{
    int i;
    for (i = 0; i < a->row_count && a->row_count == b->row_count; ++i) {
        const ft_sweep_row *x = &a->rows[i], *y = &b->rows[i];
        if (x->learning_rate != y->learning_rate || x->freeze != y->freeze || x->activation != y->activation
            || x->epochs != y->epochs || x->value != y->value || x->low != y->low || x->high != y->high
            || x->best != y->best || x->p != y->p || x->differs != y->differs) return false;
    }
    return a->row_count == b->row_count && i == a->row_count;
}

static void test_sweep_resumes(void)
{
    static sweeping whole, part;
    ft_sweep_result r, again;
    uint64_t want = sweep_again(&whole, 0, false, &r);
    int calls = whole.calls, at, status;
    remove_state();
    for (at = 3; at < calls; at += calls / 5) { /* stopped */
        sweep_again(&part, at, false, &again);
        CHECK(again.stopped && part.row_count == 0, "stopped at %d: %d rows", at, part.row_count);
        CHECK(sweep_again(&part, 0, false, &again) == want && same_rows(&whole, &part), "stopped at %d: another result", at);
        CHECK(part.calls < calls, "stopped at %d: %d calls of %d", at, part.calls, calls);
        remove_state();
    }
    for (at = 0, status = 7 << 8; at < 30 && WEXITSTATUS(status) == 7; ++at) { /* killed, again and again */
        pid_t child = fork();
        if (child == 0) {
            sweep_again(&part, 200, true, &again);
            _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "a child");
    }
    CHECK(at > 3 && status == 0, "it was killed %d times, then ended with %d", at - 1, status);
    CHECK(sweep_again(&part, 0, false, &again) == want && same_rows(&whole, &part), "killed: another result");
    CHECK(sweep_again(&part, 0, false, &again) == want && same_rows(&whole, &part), "at its end: another result");
    remove_state();
}

/* One epoch for each of `rates` rates on one frozen prefix; how many samples were read. */
static int sweep_reads(const char *cache, int rates)
{
    static const float close[] = {0.03f, 0.02f, 0.01f};
    static sweeping s;
    ft_sweep_options o = swept_options(&s);
    ft_model *m;
    memset(&s, 0, sizeof s);
    m = swept_model(&s, cache, 4);
    o.learning_rates = close;
    o.learning_rate_count = rates;
    o.freeze = swept_freeze + 1;
    o.freeze_count = 1;
    o.activations = NULL;
    o.activation_count = 0;
    ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK && s.row_count == rates, "%s", ft_error_text(m));
    ft_destroy(m);
    remove_state();
    return s.asked;
}

static void test_sweep_shares(void)
{
    int one = sweep_reads(NULL, 1), three = sweep_reads(NULL, 3);
    CHECK(one == 45 + 105 * 8 + 45, "%d samples were read: what is held back, 8 views of the others, and the score", one);
    CHECK(three == one + 2 * 45, "%d samples were read for three rates, %d for one", three, one);
}

/* A sweep of so many seconds by a clock that goes on by a second at each call. */
static ft_sweep_result sweep_timed(sweeping *s, double seconds, int epochs, ft_model **m)
{
    ft_sweep_options o = swept_options(s);
    memset(s, 0, sizeof *s);
    s->tick = 1;
    o.learning_rate_count = 2;
    o.seconds = seconds;
    o.finetune.epochs = epochs;
    *m = swept_model(s, NULL, 4);
    return ft_sweep(*m, swept_data(*m, s), state, o);
}

/* The clock decides what there is time for. */
static void test_sweep_time(void)
{
    static const double budgets[] = {12000, 24000, 1e6};
    static sweeping s;
    int i, before = 0;
    for (i = 0; i < 3; ++i) {
        ft_model *m;
        ft_sweep_result r = sweep_timed(&s, budgets[i], 0, &m);
        CHECK(ft_error(m) == FT_OK && !r.timed_out, "%g seconds: %s", budgets[i], ft_error_text(m));
        CHECK(r.epochs > before && r.epochs <= 30 && (i < 2 || r.epochs == 30), "%g seconds: %d epochs", budgets[i],
              r.epochs);
        CHECK(r.seconds < budgets[i] && r.winner.learning_rate == 0.03f, "%g seconds took %g: %s", budgets[i],
              r.seconds, r.choice);
        before = r.epochs;
        ft_destroy(m);
        remove_state();
    }
    for (i = 0; i < 3; ++i) { /* too short for 9 epochs */
        static const double few[] = {16000, 6000, 20};
        ft_model *m;
        ft_sweep_result r = sweep_timed(&s, few[i], SWEEP_EPOCHS, &m);
        if (i == 2) CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "before a setting was trained"), "%s",
                          ft_error_text(m));
        else CHECK(ft_error(m) == FT_OK && r.seconds < 1.1 * few[i] + 500 && s.row_count == 8, "%s: %g seconds",
                   ft_error_text(m), r.seconds);
        CHECK(i == 2 || r.timed_out == (i == 1), "%g seconds: over %d", few[i], r.timed_out);
        CHECK(i != 1 || (r.winner.epochs > 0 && r.winner.epochs < SWEEP_EPOCHS), "the winner had %d epochs",
              r.winner.epochs);
        ft_destroy(m);
        if (i == 2) remove("build/sweep_by_test.json.0-0"); /* kept, to continue with more time */
        remove_state();
    }
}

static void refuse(ft_sweep_options o, const char *path, ft_status status, const char *words)
{
    static sweeping s;
    ft_model *m;
    memset(&s, 0, sizeof s);
    m = swept_model(&s, NULL, 4);
    ft_sweep(m, swept_data(m, &s), path, o);
    CHECK(ft_error(m) == status && strstr(ft_error_text(m), words), "\"%s\" lacks \"%s\"", ft_error_text(m), words);
    CHECK(s.calls == 0, "it was trained");
    ft_destroy(m);
}

static void write_state(const char *text, size_t count)
{
    FILE *file = fopen(state, "wb");
    CHECK(file && fwrite(text, 1, count, file) == count, "%s cannot be written", state);
    if (file) fclose(file);
}

static void test_sweep_refuses(void)
{
    static const char *const nothing[] = {"", NULL}, *const unknown[] = {"", "gelo"};
    static const float zero[] = {0.1f, 0};
    static sweeping s;
    static char text[1 << 16];
    ft_sweep_options plain = swept_options(&s), o = plain;
    ft_model *m;
    size_t size, i;
    FILE *file;
    memset(&s, 0, sizeof s);
    refuse(plain, NULL, FT_INVALID, "the path is NULL");
    refuse(plain, "build/no/such/folder/state", FT_IO, "does its folder exist");
    o.learning_rate_count = -1;
    refuse(o, state, FT_INVALID, "learning_rates is given, but its count is -1");
    o = plain;
    o.losses = swept_losses;
    refuse(o, state, FT_INVALID, "losses is given, but its count is 0");
    o = plain;
    o.freeze = nothing;
    refuse(o, state, FT_INVALID, "freeze[1] is NULL");
    o = plain;
    o.learning_rates = zero;
    o.learning_rate_count = 2;
    refuse(o, state, FT_INVALID, "learning_rates[1] is 0");
    o = plain;
    o.seeds = -1;
    refuse(o, state, FT_INVALID, "-1 seeds");
    o = plain;
    o.seconds = 10;
    refuse(o, state, FT_INVALID, "ft_desc.clock");
    o = plain;
    o.finetune.learning_rate = 1;
    refuse(o, state, FT_INVALID, "finetune.learning_rate has no effect here");
    o = plain;
    o.finetune.checkpoint = "x";
    refuse(o, state, FT_INVALID, "finetune.checkpoint has no effect here");
    o = plain;
    o.finetune.find_rate = true;
    o.finetune.learning_rate = 0;
    refuse(o, state, FT_INVALID, "finetune.find_rate has no effect here");
    o = plain;
    o.finetune.average_start = true;
    refuse(o, state, FT_INVALID, "average_start has no effect here");
    o = plain;
    o.finetune.hold_back = 0.01f;
    refuse(o, state, FT_INVALID, "can be held back, too few");
    o = plain;
    o.activations = unknown;
    refuse(o, state, FT_INVALID, "gelo");
    o = plain;
    o.losses = unknown;
    o.loss_count = 2;
    refuse(o, state, FT_INVALID, "gelo");
    o = plain;
    o.optimizers = swept_kinds + 1;
    o.optimizer_count = 1;
    refuse(o, state, FT_INVALID, "optimizer tanh: it must be one of");
    o = plain;
    o.freeze = unknown;
    refuse(o, state, FT_INVALID, "freeze: \"gelo\" matches no name");
    o = plain;
    o.where = "nothing_is_called_so*";
    o.activations = swept_kinds + 1;
    o.activation_count = 1;
    refuse(o, state, FT_INVALID, "no activation of the network is called nothing_is_called_so*");
    remove(state);
    m = swept_model(&s, NULL, 4);
    o = plain;
    o.learning_rate_count = 2;
    o.finetune.epochs = 3;
    ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    file = fopen(state, "rb");
    size = file ? fread(text, 1, sizeof text, file) : 0;
    if (file) fclose(file);
    CHECK(size > 1000 && size < sizeof text, "%zu bytes", size);
    refuse(plain, state, FT_INVALID, "is the state of a sweep with another network");
    for (i = 1; i < size; i += 1 + size / 23) { /* cut anywhere */
        write_state(text, i - 1);
        refuse(o, state, FT_FORMAT, "sweep");
    }
    remove(state); /* what an earlier sweep left beside it is not used */
    write_state("", 0);
    CHECK(rename(state, "build/sweep_by_test.json.0-0") == 0, "it cannot be renamed");
    memset(&s, 0, sizeof s);
    m = swept_model(&s, NULL, 4);
    ft_sweep(m, swept_data(m, &s), state, o);
    CHECK(ft_error(m) == FT_OK, "an earlier sweep's checkpoint: %s", ft_error_text(m));
    ft_destroy(m);
    write_state("{\"sweep\":2}", 11);
    refuse(o, state, FT_INVALID, "of another version");
    remove_state();
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
    make_swept();
    remove_files(); /* of a test that was killed */
    test_sweep();
    test_sweep_compares();
    test_sweep_lists();
    test_sweep_resumes();
    test_sweep_shares();
    test_sweep_time();
    test_sweep_refuses();
    return check_done("test_cache");
}
