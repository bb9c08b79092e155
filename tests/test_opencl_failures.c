/* test_opencl_failures.c - failures of an OpenCL device: every function of the loader fails in
   turn, at several calls; there is no loader, or one that lacks functions; the device is lost in
   the middle of a fit; kernels do not compile; memory runs out; and kept compiled kernels are
   damaged. Each gives an error that says what failed, or the CPU continues; nothing crashes or
   leaks. The loader is tests/fake_opencl.c. */
#include "check.h"

#include "internals.h"

#ifdef FINETUNE_OPENCL
#include <sys/stat.h>

#define FAKE "build/fake_opencl.so"

typedef struct fake_control {
    const char *failing;
    int at, code, forever, calls, hits, alive;
    const char *broken;
    int waits;
} fake_control;
static fake_control *fake;

static char log_text[8192];

static void keep_log(void *user, const char *line)
{
    size_t at = strlen(log_text);
    (void)user;
    snprintf(log_text + at, sizeof log_text - at, "%s\n", line);
}

static int blocks_alive;

static void *counted_allocate(void *user, size_t bytes, size_t alignment)
{
    blocks_alive += 1;
    return ft__default_allocate(user, bytes, alignment);
}

static void counted_release(void *user, void *memory, size_t bytes)
{
    blocks_alive -= 1;
    ft__default_release(user, memory, bytes);
}

static ft_desc fake_desc(const char *device)
{
    ft_desc desc = {.seed = 3, .threads = 2, .device = device, .log = keep_log,
                    .opencl_library = FAKE, .clblast_library = "/nowhere/libclblast.so"};
    desc.allocator.allocate = counted_allocate;
    desc.allocator.release = counted_release;
    log_text[0] = 0;
    return desc;
}

static void fail_at(const char *function, int at, int code, int forever)
{
    int alive = fake->alive;
    memset(fake, 0, sizeof *fake);
    fake->alive = alive;
    fake->failing = function;
    fake->at = at;
    fake->code = code;
    fake->forever = forever;
}

/* ---- A small network, and numbers for it ---- */
enum { SIDE = 8, CLASSES = 3, SAMPLES = 16, BATCH = 8 };
static float pictures[SAMPLES * 3 * SIDE * SIDE];
static int32_t labels[SAMPLES];

static void make_pictures(void)
{
    unsigned state = 7;
    int i;
    for (i = 0; i < SAMPLES * 3 * SIDE * SIDE; ++i) {
        state = state * 1664525u + 1013904223u;
        pictures[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    for (i = 0; i < SAMPLES; ++i) labels[i] = i % CLASSES;
}

/* No bias before a batch norm: its gradient is nothing but rounding, which Adam would blow up. */
static void build(ft_model *m)
{
    ft_input_options picture = {.size = {3, SIDE, SIDE}}, label = {.type = FT_I32};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1, 1, 1, 1}, .no_bias = true};
    ft_activation_options plain = {0};
    ft_node x = ft_input(m, "input", picture), y = ft_input(m, "labels", label);
    x = ft_conv2d(m, "conv", x, 4, conv);
    x = ft_batch_norm(m, "norm", x, (ft_batch_norm_options){0});
    x = ft_activation(m, "relu", "relu", x, plain);
    x = ft_global_avg_pool(m, "pool", x);
    x = ft_flatten(m, "flat", x);
    x = ft_linear(m, "fc", x, CLASSES, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, y, (ft_loss_options){0}));
}

/* Two steps and a prediction; every call is made, whatever failed before. */
static void train(ft_model *m, float *logits)
{
    ft_optimizer_options optimizer = {.clip_norm = 1};
    int step;
    build(m);
    ft_set_optimizer(m, optimizer);
    for (step = 0; step < 2; ++step) {
        ft_feed(m, ft_find(m, "input"), pictures, BATCH);
        ft_feed(m, ft_find(m, "labels"), labels, BATCH);
        ft_forward(m, true);
        ft_backward(m);
        ft_update(m, 1e-2f);
    }
    ft_run(m, pictures, BATCH, logits, BATCH * CLASSES);
}

static bool finite(const float *x, int count)
{
    int i;
    for (i = 0; i < count; ++i)
        if (!(fabs((double)x[i]) < 1e30)) return false;
    return true;
}

static bool near(const float *a, const float *b, int count, double tolerance)
{
    int i;
    for (i = 0; i < count; ++i)
        if (!CLOSE(a[i], b[i], tolerance)) return false;
    return true;
}

static float wanted[2][BATCH * CLASSES]; /* of runs in which nothing fails: steps by hand, a fit */

static void fit(ft_model *m, int epochs, bool (*progress)(void *, const ft_progress *))
{
    ft_fit_options options = {.epochs = epochs, .batch_size = BATCH, .schedule = FT_CONSTANT,
                              .optimizer = {.optimizer = FT_SGD, .learning_rate = 0.1f},
                              .progress = progress};
    build(m);
    ft_fit(m, ft_arrays(m, SAMPLES, pictures, labels, (ft_array_options){.classes = CLASSES}),
           options);
}

/* As on a GPU: batches go up and news come down beside the steps. */
static void overlap(ft_model *m)
{
    if (m->context.device) m->context.device->overlaps = true;
}

static void run(ft_model *m, bool overlaps, float *logits)
{
    if (!overlaps) {
        train(m, logits);
        return;
    }
    overlap(m);
    fit(m, 2, NULL);
    ft_run(m, pictures, BATCH, logits, BATCH * CLASSES);
}

/* ---- Every function, at several calls ---- */

/* What was released although its function said that it failed is not counted. */
static bool releases(const char *function) { return strncmp(function, "clRelease", 9) == 0; }

/* One run with a failure; false: the run is over before the call that would have failed. */
static bool one_failure(const char *function, int at, int code, int forever, bool overlaps)
{
    float logits[BATCH * CLASSES] = {0};
    int alive = fake->alive, blocks = blocks_alive, hits;
    ft_model *m;
    ft_status status;
    fail_at(function, at, code, forever);
    m = ft_create(fake_desc("opencl:0:0"));
    if (ft_error(m)) ft_clear_error(m);
    run(m, overlaps, logits);
    status = ft_error(m);
    if (status == FT_OK)
        CHECK(near(logits, wanted[overlaps], BATCH * CLASSES, 1e-3), "%s, call %d: %s: no error, "
              "but other numbers: %g, not %g", function, at, log_text, (double)logits[0],
              (double)wanted[overlaps][0]);
    else {
        CHECK(status == FT_DEVICE || status == FT_MEMORY || status == FT_UNSUPPORTED,
              "%s, call %d: %s", function, at, ft_status_name(status));
        CHECK(strlen(ft_error_text(m)) > 20, "%s, call %d: %s", function, at, ft_error_text(m));
        ft_clear_error(m);
        CHECK(strstr(log_text, "is no longer used"), "%s, call %d: %s", function, at, log_text);
        ft_run(m, pictures, BATCH, logits, BATCH * CLASSES);
        CHECK(ft_error(m) == FT_OK && finite(logits, BATCH * CLASSES),
              "%s, call %d: after ft_clear_error: %s", function, at, ft_error_text(m));
    }
    ft_destroy(m);
    hits = fake->hits;
    CHECK(blocks_alive == blocks, "%s, call %d: %d blocks of memory are left", function, at,
          blocks_alive - blocks);
    if (!releases(function))
        CHECK(fake->alive == alive, "%s, call %d: %d objects are left", function, at,
              fake->alive - alive);
    fake->alive = alive;
    fail_at(NULL, 0, 0, 0);
    return hits > 0;
}

static void test_every_function(void)
{
#define NAME(result, name, parameters) #name,
    static const char *const functions[] = {FT__CL_ENTRIES(NAME)};
    static const int calls[] = {1, 2, 3, 9, 40, 200};
    size_t f, c;
    for (f = 0; f < sizeof functions / sizeof functions[0]; ++f)
        for (c = 0; c < sizeof calls / sizeof calls[0]; ++c) {
            int code = strstr(functions[f], "Buffer") ? CL_MEM_OBJECT_ALLOCATION_FAILURE
                                                      : CL_OUT_OF_RESOURCES;
            if (!one_failure(functions[f], calls[c], code, c % 2 == 1, false)) break;
        }
}

/* Those that only a device with work beside the steps calls, or calls in other places then. */
static void test_overlapping_functions(void)
{
    static const char *const functions[] = {
        "clEnqueueMapBuffer", "clEnqueueUnmapMemObject", "clEnqueueMarkerWithWaitList",
        "clEnqueueBarrierWithWaitList", "clWaitForEvents", "clReleaseEvent", "clFlush",
        "clCreateCommandQueue", "clCreateBuffer", "clEnqueueReadBuffer", "clEnqueueWriteBuffer"};
    static const int calls[] = {1, 2, 3, 4, 5, 7, 10, 20};
    size_t f, c;
    for (f = 0; f < sizeof functions / sizeof functions[0]; ++f) {
        for (c = 0; c < sizeof calls / sizeof calls[0]; ++c)
            if (!one_failure(functions[f], calls[c], CL_OUT_OF_RESOURCES, c % 2 == 1, true)) break;
        CHECK(c > 0, "%s is not called", functions[f]);
    }
}

/* ---- No library, or half of one ---- */
static void test_no_library(void)
{
    float logits[BATCH * CLASSES];
    const char *const libraries[] = {"/nowhere/libOpenCL.so", "libm.so.6"};
    const char *const words[] = {"cannot be opened", "has no function clGetPlatformIDs"};
    int i;
    for (i = 0; i < 2; ++i) {
        ft_desc desc = fake_desc("opencl:0:0");
        ft_model *m;
        desc.opencl_library = libraries[i];
        m = ft_create(desc);
        CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), words[i]), "%s",
              ft_error_text(m));
        ft_destroy(m);
        desc.device = "auto";
        log_text[0] = 0;
        m = ft_create(desc);
        CHECK(strstr(log_text, "the CPU is used") && strstr(log_text, words[i]), "%s",
              log_text);
        train(m, logits);
        CHECK(ft_error(m) == FT_OK && near(logits, wanted[0], BATCH * CLASSES, 1e-3), "%s",
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* ---- A device that is lost in the second epoch ---- */

static bool lose_it(void *user, const ft_progress *p)
{
    (void)user;
    if (p->epoch == 1 && p->step == 1 && !fake->failing)
        fail_at("clEnqueueNDRangeKernel", 1, CL_OUT_OF_RESOURCES, 1);
    return true;
}

static void test_lost_device(bool overlaps)
{
    float before[BATCH * CLASSES], after[BATCH * CLASSES];
    ft_model *whole, *lost;
    fail_at(NULL, 0, 0, 0);
    whole = ft_create(fake_desc("opencl:0:0"));
    fit(whole, 1, NULL);
    ft_run(whole, pictures, BATCH, before, BATCH * CLASSES);
    CHECK(ft_error(whole) == FT_OK, "%s", ft_error_text(whole));
    lost = ft_create(fake_desc("opencl:0:0"));
    if (overlaps) overlap(lost);
    fit(lost, 3, lose_it);
    CHECK(fake->hits > 0 && ft_error(lost) == FT_DEVICE
          && strstr(ft_error_text(lost), "CL_OUT_OF_RESOURCES"), "%s", ft_error_text(lost));
    ft_clear_error(lost);
    ft_run(lost, pictures, BATCH, after, BATCH * CLASSES);
    CHECK(ft_error(lost) == FT_OK && near(before, after, BATCH * CLASSES, 1e-5),
          "%s: the weights are not those of the epoch before: %g, not %g", ft_error_text(lost),
          (double)after[0], (double)before[0]);
    fail_at(NULL, 0, 0, 0);
    fit(lost, 0, NULL); /* a second network in one model is an error, and not a crash */
    ft_destroy(lost);
    ft_destroy(whole);
}

/* ---- A step beside another waits for nothing but the news of the one before ---- */

static int waits[2]; /* when steps 1 and 3 of the second epoch were reported */

static bool count_waits(void *user, const ft_progress *p)
{
    (void)user;
    if (p->epoch == 1 && !p->epoch_done && p->step == 1) waits[0] = fake->waits;
    if (p->epoch == 1 && !p->epoch_done && p->step == 3) waits[1] = fake->waits;
    return true;
}

static void test_no_waits(const char *freeze)
{
    ft_fit_options options = {.epochs = 2, .batch_size = 4, .progress = count_waits};
    ft_model *m = ft_create(fake_desc("opencl:0:0"));
    waits[0] = waits[1] = -1;
    overlap(m);
    build(m);
    if (freeze) ft_freeze(m, freeze);
    ft_fit(m, ft_arrays(m, SAMPLES, pictures, labels, (ft_array_options){.classes = CLASSES}),
           options);
    CHECK(ft_error(m) == FT_OK && waits[0] > 0 && waits[1] == waits[0], "%s: %d calls in two steps "
          "wait for the device, %s", ft_error_text(m), waits[1] - waits[0],
          freeze ? freeze : "all trained");
    ft_destroy(m);
}

/* ---- Kernels that do not compile ---- */

static void test_build_errors(void)
{
    ft_desc desc = fake_desc("opencl:0:0");
    ft_model *m;
    FILE *from = fopen("kernels.cl", "r"), *to = fopen("build/broken.cl", "w");
    char line[2000], place[64];
    int at = 0, first = 0;
    fake->broken = "fill";
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_DEVICE && strstr(ft_error_text(m), "cannot build kernel fill, which "
          "starts at line") && strstr(ft_error_text(m), "no_such_type"), "%s", ft_error_text(m));
    ft_destroy(m);
    fake->broken = NULL;
    while (from && to && fgets(line, sizeof line, from)) {
        at += 1;
        if (strstr(line, "FINETUNE_CL(softmax_forward,")) first = at;
        if (first && at == first + 3) fprintf(to, "no_such_type oops; "); /* on the same line */
        fputs(line, to);
    }
    if (from) fclose(from);
    if (to) fclose(to);
    desc.kernels_path = "build/broken.cl";
    m = ft_create(desc);
    snprintf(place, sizeof place, "softmax_forward, which starts at line %d", first);
    CHECK(ft_error(m) == FT_DEVICE && strstr(ft_error_text(m), place), "%s; wanted %s",
          ft_error_text(m), place);
    snprintf(place, sizeof place, "kernels.cl:%d:", first + 3);
    CHECK(strstr(ft_error_text(m), place), "%s; wanted %s", ft_error_text(m), place);
    ft_destroy(m);
    desc.kernels_path = "build/nowhere.cl";
    m = ft_create(desc);
    CHECK(ft_error(m) && strstr(ft_error_text(m), "nowhere.cl"), "%s", ft_error_text(m));
    ft_destroy(m);
    desc.kernels_path = "kernels.cl";
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK, "kernels.cl as a file: %s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- No memory on the device ---- */
static void test_device_memory(void)
{
    ft_model *m = ft_create(fake_desc("opencl:0:0"));
    const ft__device *d = m->context.device;
    char there[64];
    CHECK(d != NULL, "%s", ft_error_text(m));
    if (d) {
        snprintf(there, sizeof there, "of %llu", (unsigned long long)ft__cl_number(&d->cl,
                 d->place.device, CL_DEVICE_GLOBAL_MEM_SIZE));
        fail_at("clCreateBuffer", 1, CL_MEM_OBJECT_ALLOCATION_FAILURE, 1);
        ft__cl_buffer(&m->context, 123456789);
        CHECK(ft_error(m) == FT_MEMORY && strstr(ft_error_text(m), "no memory for 123456789 bytes")
              && strstr(ft_error_text(m), there), "%s", ft_error_text(m));
        fail_at(NULL, 0, 0, 0);
    }
    ft_destroy(m);
}

/* ---- What was compiled and kept ---- */
static char kept_path[300];

static bool list_program(const char *folder)
{
    ft_files files = ft__default_files();
    void *file;
    ft_model *m = ft_create(fake_desc("opencl:0:0"));
    const ft__device *d = m->context.device;
    if (d) snprintf(kept_path, sizeof kept_path, "%s/opencl-%016llx.program", folder,
                    (unsigned long long)ft__hash_bytes(sizeof(void *), d->name, strlen(d->name)));
    ft_destroy(m);
    file = files.open(NULL, kept_path, false);
    if (file) files.close(NULL, file);
    return file != NULL;
}

/* Starts the device with the folder; the numbers must be right however the kernels were got. */
static void start_kept(const char *word, const char *what, bool same)
{
    ft_desc desc = fake_desc("opencl:0:0");
    float logits[BATCH * CLASSES];
    ft_model *m;
    desc.cache = "build/programs";
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK, "%s: %s", what, ft_error_text(m));
    CHECK(word ? strstr(log_text, word) != NULL : !strstr(log_text, ".program"), "%s: %s", what,
          log_text);
    if (same) train(m, logits);
    if (same) CHECK(ft_error(m) == FT_OK && near(logits, wanted[0], BATCH * CLASSES, 1e-3), "%s: %s",
                    what, ft_error_text(m));
    ft_destroy(m);
}

/* Writes the file back: `bytes` of it, with the byte at `flip` changed; negative: none. */
static void damage(const unsigned char *whole, long bytes, long flip)
{
    FILE *file = fopen(kept_path, "wb");
    long i;
    for (i = 0; file && i < bytes; ++i) fputc(i == flip ? whole[i] ^ 4 : whole[i], file);
    if (file) fclose(file);
}

static void test_kept_programs(void)
{
    static const char used[] = "are loaded from it", anew[] = "compiled again";
    static unsigned char whole[1 << 24];
    long bytes, places[9], i;
    FILE *file;
    mkdir("build/programs", 0777);
    if (list_program("build/programs")) remove(kept_path);
    start_kept(NULL, "the first start", true);
    CHECK(list_program("build/programs"), "%s was not written", kept_path);
    start_kept(used, "the second start", true);
    file = fopen(kept_path, "rb");
    bytes = file ? (long)fread(whole, 1, sizeof whole, file) : 0;
    if (file) fclose(file);
    CHECK(bytes > 1000 && bytes < (long)sizeof whole, "%ld bytes", bytes);
    if (bytes <= 1000) return;
    places[0] = 0;              /* the magic, what it was made from, length, checksum */
    places[1] = 9;
    places[2] = 17;
    places[3] = 30;
    places[4] = 32;             /* the binary */
    places[5] = bytes / 3;
    places[6] = bytes / 2;
    places[7] = bytes - 2;
    places[8] = bytes - 1;
    for (i = 0; i < 9; ++i) {
        damage(whole, bytes, places[i]);
        start_kept(anew, "a flipped bit", i == 5);
        start_kept(used, "after a flipped bit", false);
    }
    for (i = 0; i < 9; ++i) {
        damage(whole, places[i], -1);
        start_kept(anew, "a cut file", i == 6);
    }
    damage(whole, bytes, -1);
    start_kept(used, "the whole file", false);
    fail_at("clCreateProgramWithBinary", 1, CL_INVALID_BINARY, 0);
    start_kept("the driver refuses it", "a binary refused", true);
    fail_at(NULL, 0, 0, 0);
    remove(kept_path);
    fail_at("clGetProgramInfo", 1, CL_OUT_OF_HOST_MEMORY, 0);
    start_kept("cannot be saved", "no binary to be had", true);
    fail_at(NULL, 0, 0, 0);
}

/* ---- Tiles of the products: tried, kept, and taken from a checkpoint. A processor's device does not
   use them by itself, so the test says so; its clock says which is the fastest, and ends most searches
   after the second tile, for PoCL takes seconds to compile one. ---- */
enum { TILES = FT__TILE_COUNT };
static const double SLOW = 0.06; /* seconds that go by until the clock is asked again */

typedef struct tile_clock { const ft_model *m; double now, cost[TILES]; int seen[TILES]; } tile_clock;

static double tell_time(void *user)
{
    tile_clock *clock = (tile_clock *)user;
    const ft__device *d = clock->m ? clock->m->context.device : NULL;
    if (d) clock->now += clock->cost[d->tile];
    if (d) clock->seen[d->tile] += 1;
    return clock->now;
}

/* A model whose tiled products are the usual ones; `fastest`: as its clock says; -1: no clock. */
static ft_model *tiled(tile_clock *clock, int fastest, double cost, const char *cache,
                       const char *kernels)
{
    ft_desc desc = fake_desc("opencl:0:0");
    ft_model *m;
    int i;
    memset(clock, 0, sizeof *clock);
    for (i = 0; i < TILES; ++i) clock->cost[i] = i == fastest ? cost / 2 : cost;
    if (fastest >= 0) desc.clock = tell_time;
    desc.clock_user = clock;
    desc.cache = cache;
    desc.kernels_path = kernels;
    m = ft_create(desc);
    clock->m = m;
    if (m->context.device) m->context.device->usual_form = FT__FORM_TILED;
    return m;
}

/* Trains on it; the numbers must be right whatever tile is used. */
static void use_tiles(const char *what, ft_model *m, int tile, const char *word)
{
    float logits[BATCH * CLASSES];
    train(m, logits);
    CHECK(ft_error(m) == FT_OK && near(logits, wanted[0], BATCH * CLASSES, 1e-3), "%s: %s", what,
          ft_error_text(m));
    CHECK(m->context.device && m->context.device->tile == tile, "%s: tile %d, not %d", what,
          m->context.device ? m->context.device->tile : -1, tile);
    CHECK(!word || strstr(log_text, word), "%s: \"%s\" is not in: %s", what, word, log_text);
    ft_destroy(m);
}

/* The file of the folder that has this ending. */
static const char *kept_as(const char *ending)
{
    static char path[400];
    snprintf(path, sizeof path, "%.*s%s", (int)(strrchr(kept_path, '.') - kept_path + 1), kept_path,
             ending);
    return path;
}

/* Cuts it to so many bytes or, where that is 0, changes a byte. */
static void spoil_kept(const char *ending, long bytes)
{
    const char *path = kept_as(ending);
    unsigned char content[256];
    FILE *file;
    size_t size;
    file = fopen(path, "rb");
    CHECK(file != NULL, "%s was not written", path);
    if (!file) return;
    size = fread(content, 1, sizeof content, file);
    fclose(file);
    if (bytes == 0) content[size - 1] ^= 1;
    else size = (size_t)bytes;
    file = fopen(path, "wb");
    fwrite(content, 1, size, file);
    fclose(file);
}

static void test_tiles_kept(void)
{
    static const char cache[] = "build/programs", anew[] = "the tile sizes are chosen again";
    tile_clock clock;
    int i, seen = 0;
    list_program(cache);
    remove(kept_as("tile"));
    remove(kept_as("tiles"));
    use_tiles("no clock", tiled(&clock, -1, 0, NULL, NULL), 0, NULL);
    use_tiles("tried", tiled(&clock, 3, 1e-3, cache, NULL), 3, "6 of 6 tile sizes were tried");
    use_tiles("kept", tiled(&clock, -1, 0, cache, NULL), 3, "tile sizes of an earlier run are used");
    use_tiles("kept", tiled(&clock, 1, 1e-3, cache, NULL), 3, ".tiles: the compiled kernels are");
    spoil_kept("tile", 0);
    use_tiles("a flipped bit", tiled(&clock, 1, SLOW, cache, NULL), 1, anew);
    spoil_kept("tile", 40);
    use_tiles("cut", tiled(&clock, 0, SLOW, cache, NULL), 0, anew);
    use_tiles("the usual one", tiled(&clock, 1, SLOW, cache, NULL), 0, "an earlier run");
    spoil_kept("tile", 0);
    use_tiles("anew", tiled(&clock, 1, SLOW, cache, NULL), 1, anew);
    spoil_kept("tiles", 100);
    use_tiles("a cut program", tiled(&clock, -1, 0, cache, NULL), 1, "compiled again");
    use_tiles("another source", tiled(&clock, -1, 0, cache, "kernels.cl"), 0, anew);
    use_tiles("slow", tiled(&clock, 1, 1, NULL, NULL), 0, NULL);
    for (i = 0; i < TILES; ++i) seen += clock.seen[i] > 0;
    CHECK(seen == 1, "%d tiles were begun, the first of which takes longer than all may", seen);
}

/* A tile that does not compile, does not start or is wrong is not used, however fast it is. */
static void test_wrong_tiles(void)
{
    static const char right[] = "group, n, sum[i][j]);", path[] = "build/tiles.cl";
    static char text[200000];
    tile_clock clock;
    FILE *file = fopen("kernels.cl", "rb");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    char *at;
    ft_model *m;
    if (file) fclose(file);
    text[size] = 0;
    at = strstr(text, "gather_tiled,");
    at = at ? strstr(at, right) : NULL;
    file = at ? fopen(path, "wb") : NULL;
    CHECK(file != NULL, "kernels.cl has no \"%s\"", right);
    if (!file) return;
    fwrite(text, 1, (size_t)(at - text), file);
    fprintf(file, "group, n, TILE_Y == 8 ? 1.1f * sum[i][j] : sum[i][j]);%s",
            at + strlen(right));
    fclose(file);
    use_tiles("wrong", tiled(&clock, 1, SLOW, NULL, path), 0, "tile size 1 of the matrix products gives wrong results");
    remove(path);
    m = tiled(&clock, 1, SLOW, NULL, NULL);
    fail_at("clBuildProgram", 1, CL_BUILD_PROGRAM_FAILURE, 0);
    use_tiles("not compiled", m, 0, "cannot build");
    fail_at(NULL, 0, 0, 0);
}

static bool stop_there(void *user, const ft_progress *p)
{
    (void)user;
    return p->epoch < 1;
}

/* A run that goes on takes tiles and forms from its checkpoint, though a search would choose others
   and no cache is there: the same bits as the run that was not stopped. */
static void test_choices_in_checkpoint(void)
{
    static const char checkpoint[] = "build/choices.checkpoint";
    float weights[2][4 * 27], logits[BATCH * CLASSES];
    int i, k, other;
    tile_clock clock;
    for (i = 0; i < 2; ++i) {
        ft_fit_options options = {.epochs = 3, .batch_size = BATCH, .schedule = FT_CONSTANT,
                                  .optimizer = {.optimizer = FT_SGD, .learning_rate = 0.1f}};
        ft_model *m = tiled(&clock, 1, SLOW, NULL, NULL);
        remove(checkpoint);
        for (k = 0; k <= i; ++k) {
            if (i == 1) options.checkpoint = checkpoint;
            options.progress = i == 1 && k == 0 ? stop_there : NULL;
            if (k == 1) {
                ft_destroy(m);
                m = tiled(&clock, 0, SLOW, NULL, NULL);
                m->context.device->usual_form = FT__FORM_WIDE;
            }
            build(m);
            ft_fit(m, ft_arrays(m, SAMPLES, pictures, labels,
                                (ft_array_options){.classes = CLASSES}), options);
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        }
        CHECK(m->context.device->tile == 1, "tile %d, not that of the checkpoint",
              m->context.device->tile);
        for (k = other = 0; k < m->context.device->verdict_count; ++k) {
            const ft__verdict *v = &m->context.device->verdicts[k];
            other += (v->op == FT__OP_conv2d || v->op == FT__OP_linear)
                && v->form != FT__FORM_TILED;
        }
        CHECK(other == 0, "%d products run in other forms than before", other);
        ft_get(m, ft_find(m, "conv.weight"), weights[i], 4 * 27);
        ft_run(m, pictures, BATCH, logits, BATCH * CLASSES);
        ft_destroy(m);
    }
    CHECK(!memcmp(weights[0], weights[1], sizeof weights[0]), "other bits when resumed");
    remove(checkpoint);
}

/* Another folder, driver or source: not taken. The folder may be missing. */
static void test_stale_programs(void)
{
    ft_desc desc = fake_desc("opencl:0:0");
    ft_model *m;
    desc.cache = "build/programs";
    ft_destroy(ft_create(desc));
    desc.kernels_path = "kernels.cl"; /* another text: true lines */
    log_text[0] = 0;
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK && strstr(log_text, "compiled again"), "another source: %s",
          log_text);
    ft_destroy(m);
    desc.cache = "build/no/such/folder";
    log_text[0] = 0;
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK && strstr(log_text, "cannot be saved"), "%s: %s", ft_error_text(m),
          log_text);
    ft_destroy(m);
}

static void test_all(void)
{
    ft_model *m;
    int i;
    for (i = 0; i < 2; ++i) {
        m = ft_create(fake_desc("cpu"));
        run(m, i == 1, wanted[i]);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
    }
    m = ft_create(fake_desc("opencl:0:0"));
    if (ft_error(m) == FT_UNSUPPORTED) {
        SKIP(ft_error_text(m));
        ft_destroy(m);
        return;
    }
    ft_destroy(m);
    CHECK(fake->alive == 0, "%d objects are left", fake->alive);
    test_build_errors();
    test_device_memory();
    test_lost_device(false);
    test_lost_device(true);
    test_no_waits(NULL);
    test_no_waits("conv*,norm*");
    test_kept_programs();
    test_tiles_kept();
    test_wrong_tiles();
    test_choices_in_checkpoint();
    test_stale_programs();
    test_every_function();
    test_overlapping_functions();
    test_no_library();
    CHECK(blocks_alive == 0, "%d blocks of memory are left", blocks_alive);
}

static void open_device(void)
{
    ft_desc desc = {.device = "opencl:0:0"};
    ft_destroy(ft_create(desc));
}

int main(void)
{
    void *library;
    if (!check_survives(open_device)) {
        SKIP("the OpenCL driver ends the process here");
        return check_done("test_opencl_failures");
    }
    library = dlopen(FAKE, RTLD_NOW | RTLD_LOCAL);
    if (library) fake = (fake_control *)dlsym(library, "fake");
    make_pictures();
    if (fake) test_all();
    else CHECK(false, "%s: it is built by make: %s", FAKE, dlerror());
    return check_done("test_opencl_failures");
}

#else

int main(void)
{
    SKIP("built without OpenCL's headers");
    return check_done("test_opencl_failures");
}

#endif
