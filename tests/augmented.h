/* augmented.h - changes of pictures and their draws beside torchvision's: for test_data.c. The golden
   file says what each tensor is: tests/golden/make_augmentation.py. */
#ifndef AUGMENTED_H
#define AUGMENTED_H

enum { DRAWN = 10000, BINS = 16 };

static uint8_t *golden_bytes(ft_file *file, const char *name, ft_shape *shape)
{
    int index = ft_file_find(file, name);
    ft_tensor_info info;
    uint8_t *bytes;
    CHECK(index >= 0, "%s is missing", name);
    info = ft_file_tensor(file, index);
    bytes = (uint8_t *)malloc((size_t)info.bytes + 1);
    CHECK(ft_file_read(file, index, bytes, (size_t)info.bytes) == FT_OK, "%s", name);
    if (shape) *shape = info.shape;
    return bytes;
}

/* The kind of a change by its name in the golden file; how its number becomes ft__change.size. */
static ft__change change_named(const char *kind, const char *size)
{
    static const char *const names[] = {
        "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
        "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "hue", "affine", "blur", "flip"};
    ft__change change;
    int k;
    memset(&change, 0, sizeof change);
    for (k = 0; k < 17 && strcmp(names[k], kind) != 0; ++k) {}
    CHECK(!strcmp(names[k], kind), "%s", kind);
    change.kind = (ft__change_kind)k;
    change.size = atof(size);
    change.radius = 6;
    if (k == FT__AFFINE)
        CHECK(sscanf(size, "%lf,%lf,%lf", &change.affine.angle, &change.affine.scale, &change.affine.shear_x) == 3,
              "%s", size);
    return change;
}

/* All samples must be equal; of `soft` changes, where float rounding decides, some may be one level
   off. */
static void test_changes(ft_file *file)
{
    int i, checked = 0, kinds[18] = {0};
    for (i = 0; i < ft_file_count(file); ++i) {
        const char *name = ft_file_tensor(file, i).name;
        char picture[32], kind[32], size[64], from_name[64];
        uint8_t *from, *want, *got;
        float *rows;
        ft_shape shape;
        ft__raster r;
        ft__change change;
        size_t bytes, k, off = 0, far_off = 0;
        bool soft;
        if (sscanf(name, "%31[^/]/%31[^/]/%63s", picture, kind, size) != 3 || strchr(size, '/')) continue;
        if (!strcmp(picture, "draws") || !strcmp(picture, "mix") || !strcmp(picture, "loss")) continue;
        if (!strcmp(kind, "erase")) continue;
        snprintf(from_name, sizeof from_name, "in/%s", picture);
        from = golden_bytes(file, from_name, &shape);
        want = golden_bytes(file, name, NULL);
        r.width = shape.size[1];
        r.height = shape.size[0];
        r.channels = shape.size[2];
        bytes = ft__raster_bytes(r);
        got = (uint8_t *)malloc(bytes + 8);
        rows = (float *)malloc(bytes * sizeof *rows);
        memset(got, 0xA5, bytes + 8);
        change = change_named(kind, size);
        kinds[change.kind] += 1;
        ft__change_picture(r, from, &change, rows, got);
        soft = change.kind == FT__HUE || change.kind == FT__AFFINE || change.kind == FT__BLUR;
        for (k = 0; k < bytes; ++k) {
            int d = abs(got[k] - want[k]);
            off += d > 0;
            far_off += d > (soft ? 1 : 0);
        }
        CHECK(far_off == 0 && off <= (soft ? 1 + bytes / 50 : 0), "%s: %zu of %zu samples differ, %zu by much", name, off, bytes, far_off);
        for (k = 0; k < 8; ++k) CHECK(got[bytes + k] == 0xA5, "%s writes past the picture", name);
        checked += 1;
        free(rows);
        free(got);
        free(want);
        free(from);
    }
    for (i = 0; i < 18; ++i) CHECK(kinds[i] > 1, "change %d is not in the golden file", i);
    CHECK(checked > 180, "only %d changes", checked);
}

/* ---- Draws ---- */

enum { WIDE = 48, HIGH = 32 };

/* What one view of everything draws. */
static ft__view draw_one(const ft_augmentation *a, int k)
{
    ft_preprocessing p = preprocessing(3, WIDE, HIGH, 0);
    ft__view v;
    ft__draw_view(a, &p, 18, k % 100, 1 + k / 100, WIDE, HIGH, &v);
    return v;
}

static const ft__change *change_of(const ft__view *v, ft__change_kind kind)
{
    int i;
    for (i = 0; i < v->change_count; ++i)
        if (v->changes[i].kind == kind) return &v->changes[i];
    return NULL;
}

/* The number of a draw that the golden file calls `name`; NAN: this draw has none. order_K:
   which of the four colours is changed at place K. */
static double number_of(const ft__view *v, const char *name)
{
    static const ft__change_kind colours[4] = {FT__BRIGHTNESS, FT__CONTRAST, FT__COLOR, FT__HUE};
    const ft__change *c;
    int i, k;
    if (!strcmp(name, "crop_top")) return v->crop_top;
    if (!strcmp(name, "crop_left")) return v->crop_left;
    if (!strcmp(name, "crop_width")) return v->crop_width;
    if (!strcmp(name, "crop_height")) return v->crop_height;
    /* torchvision's, if nothing fits, is the whole picture, and then nothing is erased. */
    if (!strcmp(name, "erase_top")) return v->erase_top;
    if (!strcmp(name, "erase_left")) return v->erase_left;
    if (!strcmp(name, "erase_width")) return v->erase_width ? v->erase_width : WIDE;
    if (!strcmp(name, "erase_height")) return v->erase_width ? v->erase_height : HIGH;
    if (!strcmp(name, "angle")) return change_of(v, FT__AFFINE)->affine.angle;
    if (!strcmp(name, "scale")) return change_of(v, FT__AFFINE)->affine.scale;
    if (!strcmp(name, "shear")) return change_of(v, FT__AFFINE)->affine.shear_x;
    if (!strcmp(name, "brightness")) return 1 + change_of(v, FT__BRIGHTNESS)->size;
    if (!strcmp(name, "contrast")) return 1 + change_of(v, FT__CONTRAST)->size;
    if (!strcmp(name, "saturation")) return 1 + change_of(v, FT__COLOR)->size;
    if (!strcmp(name, "hue")) return change_of(v, FT__HUE)->size;
    if (!strcmp(name, "sigma")) return change_of(v, FT__BLUR)->size;
    if (!strncmp(name, "order_", 6)) {
        for (i = 0; i < v->change_count && v->changes[i].kind != FT__AFFINE; ++i) {}
        c = &v->changes[i + 1 + name[6] - '0'];
        for (k = 0; k < 4 && colours[k] != c->kind; ++k) {}
        return k;
    }
    return NAN;
}

static double policy_number_of(const ft__view *v, const char *name)
{
    const double largest[10] = {0, .99, .99, 32, 32, 135, .99, .99, .99, .99};
    int first = v->change_count > 0 ? (int)v->changes[0].kind : FT__IDENTITY;
    double size = v->change_count > 0 ? v->changes[0].size : 0;
    if (!strcmp(name, "trivial_kind")) return first;
    if (!strcmp(name, "trivial_signed") && first >= FT__SHEAR_X && first <= FT__SHARPNESS) return size / largest[first];
    if (!strcmp(name, "trivial_posterize") && first == FT__POSTERIZE) return size;
    if (!strcmp(name, "trivial_solarize") && first == FT__SOLARIZE) return size;
    return NAN;
}

/* Do two samples have one distribution? The chi-square statistic for different sizes (Press et al.,
   Numerical Recipes 14.3) has its number of parts as its mean, and a standard deviation of
   sqrt(2 parts): 6 of these are allowed. The means and variances must be near too. */
static void same_distribution(const char *name, const float *want, const double *got)
{
    double n = 0, m = 0, chi = 0, mean[2] = {0, 0}, square[2] = {0, 0}, parts = 0;
    int i;
    for (i = 0; i < BINS; ++i) {
        n += (double)want[i];
        m += got[i];
        mean[0] += (double)want[i] * i;
        mean[1] += got[i] * i;
        square[0] += (double)want[i] * i * i;
        square[1] += got[i] * i * i;
    }
    CHECK(n > 500 && m > 250, "%s: %g and %g draws", name, n, m);
    for (i = 0; i < BINS; ++i) {
        double a = (double)want[i], b = got[i], d = a * sqrt(m / n) - b * sqrt(n / m);
        if (a + b > 0) chi += d * d / (a + b);
        parts += a + b > 0;
    }
    CHECK(chi <= parts + 6 * sqrt(2 * parts), "%s: chi-square %.1f of %g parts", name, chi, parts);
    for (i = 0; i < 2; ++i) {
        mean[i] /= i ? m : n;
        square[i] = square[i] / (i ? m : n) - mean[i] * mean[i];
    }
    CHECK(fabs(mean[0] - mean[1]) <= 5 * sqrt(square[0] / n + square[0] / m) + 1e-9, "%s: means %g and %g", name, mean[0],
          mean[1]);
    CHECK(fabs(square[0] - square[1]) <= 10 * square[0] * sqrt(1 / n + 1 / m) + 1e-9, "%s: variances %g and %g", name,
          square[0], square[1]);
}

/* Counts the numbers of DRAWN draws into the golden file's parts. */
static int compare_draws(ft_file *file, const ft_augmentation *a, double (*number)(const ft__view *, const char *))
{
    ft__view *views = (ft__view *)malloc(DRAWN * sizeof *views);
    int i, k, compared = 0;
    for (k = 0; k < DRAWN; ++k) views[k] = draw_one(a, k);
    for (i = 0; i < ft_file_count(file); ++i) {
        ft_tensor_info info = ft_file_tensor(file, i);
        char name[40];
        double low, high, counts[BINS] = {0}, some = 0;
        float want[BINS];
        int outside = 0;
        if (sscanf(info.name, "draws/%39[^/]/%lf/%lf", name, &low, &high) != 3) continue;
        for (k = 0; k < DRAWN; ++k) {
            double x = number(&views[k], name);
            int bin;
            if (!(x - x == 0)) continue;
            bin = (int)((x - low) / (high - low) * BINS);
            outside += !(x >= low - 1e-6 && x <= high + 1e-6);
            counts[bin < 0 ? 0 : bin < BINS ? bin : BINS - 1] += 1;
            some += 1;
        }
        CHECK(outside == 0, "%s: %d draws are outside of %g to %g", name, outside, low, high);
        if (some == 0) continue;
        CHECK(ft_file_read(file, i, want, sizeof want) == FT_OK, "%s", name);
        same_distribution(name, want, counts);
        compared += 1;
    }
    free(views);
    return compared;
}

static void test_draws(ft_file *file)
{
    ft_augmentation all = {.scale = 0.25f, .degrees = 30, .zoom = 0.2f, .shear = 10, .brightness = 0.4f, .contrast = 0.5f,
                           .saturation = 1.5f, .hue = 0.1f, .blur = 2, .erase = 1};
    ft_augmentation trivial = {.policy = FT_TRIVIAL_AUGMENT}, halves = {.flip_vertical = true, .erase = 0.25f};
    int k, upside_down = 0, erased = 0;
    int compared = compare_draws(file, &all, number_of);
    CHECK(compared == 20, "%d numbers", compared);
    compared = compare_draws(file, &trivial, policy_number_of);
    CHECK(compared == 4, "%d numbers of a policy", compared);
    for (k = 1; k < 50; ++k) { /* a kernel of the same size for each sigma: three of the largest */
        ft__view v = draw_one(&all, k);
        CHECK(change_of(&v, FT__BLUR)->radius == 6, "%d pixels on each side", change_of(&v, FT__BLUR)->radius);
    }
    for (k = 0; k < DRAWN; ++k) {
        ft__view v = draw_one(&halves, k);
        upside_down += change_of(&v, FT__MIRROR_DOWN) != NULL;
        erased += v.erase_width > 0;
        CHECK(v.erase_left + v.erase_width <= WIDE && v.erase_top + v.erase_height <= HIGH && !v.flip, "draw %d", k);
    }
    CHECK(abs(upside_down - DRAWN / 2) < 250, "%d upside down", upside_down); /* 5 standard deviations */
    CHECK(abs(erased - DRAWN / 4) < 217, "%d erased", erased);
}

/* RandAugment: which changes, of which size; and all sizes of both policies. */
static void test_policies(ft_file *file)
{
    ft_augmentation rand = {.policy = FT_RAND_AUGMENT}, more = {.policy = FT_RAND_AUGMENT, .operations = 8, .magnitude = 30};
    double first[BINS] = {0}, second[BINS] = {0}, sign[BINS] = {0};
    float want[BINS], sizes[11][31];
    int k, i, which, kind, bin;
    for (k = 0; k < DRAWN; ++k) {
        ft__draws from;
        ft__view v;
        memset(&v, 0, sizeof v);
        from.key = ft__key(18, (uint64_t)k, 1, FT__USE_CHANGE);
        from.at = 0;
        /* One change each time: no change is the identity, which is left out of the changes. */
        rand.operations = 1;
        ft__draw_policy(&rand, &from, WIDE, HIGH, &v);
        kind = v.change_count ? (int)v.changes[0].kind : 0;
        first[kind] += 1;
        if (kind > 0 && kind <= FT__SHARPNESS) sign[v.changes[0].size > 0 ? 12 : 4] += 1;
        v.change_count = 0;
        ft__draw_policy(&rand, &from, WIDE, HIGH, &v);
        second[v.change_count ? (int)v.changes[0].kind : 0] += 1;
    }
    rand.operations = 0;
    for (k = 0, i = 0, which = 0; k < DRAWN; ++k) {
        ft__view v = draw_one(&rand, k), w = draw_one(&more, k);
        i += v.change_count;
        which += w.change_count;
        CHECK(v.change_count <= 2 && w.change_count <= 8, "%d, %d", v.change_count, w.change_count);
    }
    CHECK(fabs(i - DRAWN * 2 * 13 / 14.0) < 200 && fabs(which - DRAWN * 8 * 13 / 14.0) < 400, "%d and %d changes", i, which);
    golden_numbers(file, "draws", "rand_first/0/16", want, sizeof want);
    same_distribution("rand_first", want, first);
    golden_numbers(file, "draws", "rand_second/0/16", want, sizeof want);
    same_distribution("rand_second", want, second);
    golden_numbers(file, "draws", "rand_sign/-1/1", want, sizeof want);
    same_distribution("rand_sign", want, sign);
    for (which = 0; which < 2; ++which) {
        CHECK(golden_numbers(file, "sizes", which ? "rand" : "trivial", sizes, sizeof sizes) == 11 * 31, "sizes");
        for (kind = FT__SHEAR_X; kind <= FT__SOLARIZE; ++kind)
            for (bin = 0; bin < 31; ++bin) {
                double got = ft__policy_size(which ? FT_RAND_AUGMENT : FT_TRIVIAL_AUGMENT, (ft__change_kind)kind, bin, WIDE,
                                             HIGH);
                CHECK(CLOSE(got, sizes[kind - 1][bin], 1e-4), "policy %d, change %d, bin %d: %g, not %g", which, kind, bin,
                      got, (double)sizes[kind - 1][bin]);
            }
    }
}

/* A view is its changes one after another on the window, mirrored if `flip`, then the numbers, then what
   is erased; and a crop comes before. The oracle makes each picture anew. */
static void test_view_values(ft_file *file)
{
    ft_augmentation a = {.flip_vertical = true, .brightness = 0.3f, .blur = 1, .erase = 1, .policy = FT_TRIVIAL_AUGMENT};
    ft_preprocessing p = preprocessing(3, 9, 7, 0);
    ft__geometry g = {23, 17, 6, 5};
    ft__raster r = {9, 7, 3};
    uint8_t *picture = golden_bytes(file, "in/rgb", NULL), window[9 * 7 * 3], other[9 * 7 * 3], resized[9 * 7 * 3];
    float got[9 * 7 * 3], want[9 * 7 * 3], rows[9 * 7 * 3];
    size_t bytes = ft__view_workspace(&p, &a, 23, 17);
    uint8_t *workspace = (uint8_t *)malloc(bytes + 8);
    int number, x, y, c, i, crops, changes = 0;
    for (crops = 0; crops < 2; ++crops)
        for (number = 1; number <= 60; ++number) {
            ft__view v;
            ft__draw_view(&a, &p, 3, 4, number, 23, 17, &v);
            v.flip = number % 2 == 0;
            if (crops) v.crop_left = 3, v.crop_top = 2, v.crop_width = 15, v.crop_height = 11;
            memset(workspace, 0x5A, bytes + 8);
            if (crops) {
                ft__resize(picture + (2 * 23 + 3) * 3, 23 * 3, 15, 11, 3, resized, 9, 7, FT__BILINEAR, workspace);
                memset(workspace, 0x5A, bytes + 8);
            }
            for (y = 0; y < 7; ++y)
                for (x = 0; x < 9; ++x)
                    for (c = 0; c < 3; ++c) {
                        int sx = v.flip ? 8 - x : x;
                        window[(y * 9 + x) * 3 + c] = crops ? resized[(y * 9 + sx) * 3 + c]
                                                            : picture[((y + 5) * 23 + sx + 6) * 3 + c];
                    }
            for (i = 0; i < v.change_count; ++i, ++changes) {
                ft__change_picture(r, window, &v.changes[i], rows, other);
                memcpy(window, other, sizeof window);
            }
            ft__window_to_tensor(&p, window, 9, 7, 0, 0, false, want);
            for (c = 0; c < 3; ++c)
                for (y = v.erase_top; y < v.erase_top + v.erase_height; ++y)
                    for (x = v.erase_left; x < v.erase_left + v.erase_width; ++x) want[(c * 7 + y) * 9 + x] = 0;
            ft__view_to_tensor(&p, picture, &g, &v, workspace, got);
            CHECK(!memcmp(got, want, sizeof got), "view %d, crop %d", number, crops);
            for (i = 0; i < 8; ++i) CHECK(workspace[bytes + (size_t)i] == 0x5A, "writes past the workspace");
        }
    CHECK(changes > 250, "%d changes", changes);
    free(workspace);
    free(picture);
}

/* Each field is checked, and each makes other views with another digest. */
static void test_fields(void)
{
    static const struct { const char *says; ft_augmentation a; } wrong[] = {
        {"degrees", {.degrees = 181}}, {"zoom", {.zoom = 1}}, {"shear", {.shear = 90}}, {"brightness", {.brightness = -1}},
        {"contrast", {.contrast = (float)INFINITY}}, {"saturation", {.saturation = (float)NAN}}, {"hue", {.hue = 0.6f}},
        {"blur", {.blur = 0.05f}}, {"blur", {.blur = 21}}, {"erase", {.erase = 1.5f}},
        {"policy", {.policy = (ft_augment_policy)3}}, {"operations", {.operations = 1}},
        {"magnitude", {.magnitude = 1, .policy = FT_TRIVIAL_AUGMENT}},
        {"operations", {.operations = 9, .policy = FT_RAND_AUGMENT}}, {"magnitude", {.magnitude = 31, .policy = FT_RAND_AUGMENT}}};
    static const ft_augmentation right[] = {
        {.flip_vertical = true}, {.degrees = 180}, {.zoom = 0.9f}, {.shear = 20}, {.brightness = 3}, {.contrast = 1},
        {.saturation = 1}, {.hue = 0.5f}, {.blur = 20}, {.erase = 1}, {.policy = FT_TRIVIAL_AUGMENT},
        {.policy = FT_RAND_AUGMENT}, {.policy = FT_RAND_AUGMENT, .operations = 3}, {.policy = FT_RAND_AUGMENT, .magnitude = 3}};
    enum { RIGHT = sizeof right / sizeof right[0] };
    static uint8_t pixels[20 * 20 * 3];
    const uint8_t *picture = pixels;
    ft_picture_size size = {20, 20};
    uint64_t digest[RIGHT];
    float got[2][12 * 12 * 3];
    size_t i, k;
    for (i = 0; i < sizeof pixels; ++i) pixels[i] = (uint8_t)(i * i % 251);
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        const char *says = ft__augmentation_fault(&wrong[i].a);
        CHECK(says && strstr(says, wrong[i].says), "%s: %s", wrong[i].says, says ? says : "no error");
    }
    for (i = 0; i < RIGHT; ++i) {
        ft_model *m = ft_create((ft_desc){.seed = 5});
        ft_data *data;
        ft_slot slot;
        bool other = false;
        ft_set_preprocessing(m, preprocessing(3, 12, 12, 0));
        CHECK(!ft__augmentation_fault(&right[i]) && ft__augments(&right[i]), "%zu", i);
        data = ft_pixels(m, 1, &picture, &size, NULL, (ft_pixels_options){.augmentation = right[i]});
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        memset(&slot, 0, sizeof slot);
        slot.name = "input";
        slot.type = FT_F32;
        slot.shape = (ft_shape){3, {3, 12, 12}};
        for (k = 0; k < 8; ++k) {
            slot.values = got[k > 0];
            CHECK(data->source.get(data->source.user, 0, (int)k, &slot, 1), "view %zu", k);
            other = other || (k > 0 && memcmp(got[0], got[1], sizeof got[0]));
        }
        CHECK(other, "field %zu changes nothing", i);
        digest[i] = data->source.digest(data->source.user, 0, 1);
        for (k = 0; k < i; ++k) CHECK(digest[k] != digest[i], "fields %zu and %zu: one digest", k, i);
        ft_destroy(m);
    }
}

/* ---- Mixup, CutMix and balanced sampling ---- */

static void test_mixed_batches(ft_file *file)
{
    enum { N = 4, EACH = 3 * 6 * 8 };
    float x[N * EACH], got[N * EACH], want[N * EACH], spare[EACH];
    int i, mixed = 0;
    golden_numbers(file, "mix", "x", x, sizeof x);
    for (i = 0; i < ft_file_count(file); ++i) {
        ft_tensor_info info = ft_file_tensor(file, i);
        ft__mixing mixing;
        double own;
        bool up = sscanf(info.name, "mix/mixup/%lf", &own) == 1;
        memset(&mixing, 0, sizeof mixing);
        if (!up && sscanf(info.name, "mix/cutmix/%d,%d,%d,%d", &mixing.left, &mixing.top, &mixing.right, &mixing.bottom) != 4)
            continue;
        memcpy(got, x, sizeof x);
        if (up) ft__mix_samples(got, N, EACH, 1 - own, spare);
        else ft__cut_samples_in(got, N, 3, 6, 8, &mixing, spare);
        CHECK(ft_file_read(file, i, want, sizeof want) == FT_OK, "%s", info.name);
        compare_golden(info.name, got, want, N * EACH, up ? 1e-6 : 0);
        mixed += 1;
    }
    CHECK(mixed == 5, "%d", mixed);
}

static void test_mixing_draws(ft_file *file)
{
    static const char *const names[5] = {"left", "top", "right", "bottom", "lam"};
    const double alphas[3] = {0.2, 1, 4};
    int a, k, i, bin, outside = 0;
    for (a = 0; a < 3; ++a) {
        double counts[5][BINS] = {{0}}, plain[BINS] = {0};
        float want[BINS];
        char name[64];
        for (k = 0; k < DRAWN; ++k) {
            ft__mixing m;
            double own = ft__beta_draw(alphas[a], ft__key(7, (uint64_t)k, 0, FT__USE_MIX)), numbers[5];
            ft__draw_box(own, WIDE, HIGH, ft__key(8, (uint64_t)k, 0, FT__USE_MIX), &m);
            numbers[0] = m.left / (double)WIDE, numbers[1] = m.top / (double)HIGH;
            numbers[2] = m.right / (double)WIDE, numbers[3] = m.bottom / (double)HIGH, numbers[4] = 1 - m.other;
            for (i = 0; i < 5; ++i) {
                bin = (int)(numbers[i] * BINS);
                counts[i][bin < BINS ? bin : BINS - 1] += 1;
            }
            bin = (int)(own * BINS);
            plain[bin < BINS ? bin : BINS - 1] += 1;
            outside += !(own >= 0 && own <= 1 && m.right <= WIDE && m.bottom <= HIGH);
        }
        snprintf(name, sizeof name, "lam_%.1f/0/1", alphas[a]);
        golden_numbers(file, "draws", name, want, sizeof want);
        same_distribution(name, want, plain);
        for (i = 0; i < 5; ++i) {
            snprintf(name, sizeof name, "cut_%s_%.1f/0/%d", names[i], alphas[a], i == 4 ? 1 : i % 2 ? HIGH : WIDE);
            golden_numbers(file, "draws", name, want, sizeof want);
            same_distribution(name, want, counts[i]);
        }
    }
    CHECK(outside == 0, "%d draws are outside", outside);
}

/* Two labels a sample are PyTorch's soft targets: a linear layer of the identity's rows has the logits
   as its weight, and their gradient as its gradient. */
static void test_two_labels(ft_file *file)
{
    enum { N = 6, CLASSES = 5 };
    static const char *const kinds[] = {"plain", "smoothed"}, *const shares[] = {"0.25", "0.6"};
    float logits[N * CLASSES], weight[CLASSES * N], unit[N * N] = {0}, want[N * CLASSES], slopes[CLASSES * N], loss, golden;
    int32_t labels[N];
    int kind, share, n, c;
    golden_numbers(file, "loss", "logits", logits, sizeof logits);
    golden_numbers(file, "loss", "labels", labels, sizeof labels);
    for (n = 0; n < N; ++n)
        for (unit[n * N + n] = 1, c = 0; c < CLASSES; ++c) weight[c * N + n] = logits[n * CLASSES + c];
    for (kind = 0; kind < 2; ++kind)
        for (share = 0; share < 2; ++share) {
            ft_model *m = ft_create((ft_desc){0});
            ft_node x = ft_input(m, "input", (ft_input_options){.size = {N}}), y;
            char key[64];
            y = ft_linear(m, "a", x, CLASSES, (ft_linear_options){.no_bias = true});
            ft_set_output(m, y);
            ft_set_loss(m, ft_cross_entropy(m, "loss", y, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                            (ft_loss_options){.label_smoothing = kind ? 0.1f : 0}));
            ft_set(m, ft_find(m, "a.weight"), weight, CLASSES * N);
            ft_feed(m, ft_find(m, "input"), unit, N);
            ft_feed(m, ft_find(m, "labels"), labels, N);
            m->other_share = 1 - (float)atof(shares[share]);
            loss = ft_forward(m, true);
            ft_backward(m);
            m->other_share = 0;
            ft_get_gradient(m, ft_find(m, "a.weight"), slopes, CLASSES * N);
            snprintf(key, sizeof key, "%s/%s/loss", kinds[kind], shares[share]);
            golden_numbers(file, "loss", key, &golden, sizeof golden);
            CHECK(CLOSE(loss, golden, 1e-5), "%s: %g, not %g", key, (double)loss, (double)golden);
            snprintf(key, sizeof key, "%s/%s/gradient", kinds[kind], shares[share]);
            golden_numbers(file, "loss", key, want, sizeof want);
            for (n = 0; n < N; ++n)
                for (c = 0; c < CLASSES; ++c)
                    CHECK(CLOSE(slopes[c * N + n], want[n * CLASSES + c], 1e-6), "%s: %d, %d", key, n, c);
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            ft_destroy(m);
        }
}

enum { SIDE = 8, PICTURES = 30 };

typedef struct mixed_run { ft_fit_options o; ft_augmentation a; int threads, stop_at; bool frozen; } mixed_run;

static int mixed_steps;
static bool stop_mixed(void *user, const ft_progress *p)
{
    const mixed_run *r = (const mixed_run *)user;
    return p->preparing || p->epoch_done || ++mixed_steps != r->stop_at;
}

static ft_model *mixed_model(const mixed_run *r, ft_data **data)
{
    static uint8_t pixels[PICTURES][SIDE * SIDE * 3];
    const uint8_t *pictures[PICTURES];
    ft_picture_size sizes[PICTURES];
    int labels[PICTURES], i, k;
    ft_model *m = ft_create((ft_desc){.seed = 6, .threads = r->threads, .log = collect});
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {3, SIDE, SIDE}});
    log_text[0] = 0;
    for (i = 0; i < PICTURES; ++i) { /* 21, 6 and 3 of a class */
        labels[i] = i % 10 < 7 ? 0 : i % 10 < 9 ? 1 : 2;
        for (k = 0; k < SIDE * SIDE * 3; ++k) pixels[i][k] = (uint8_t)((i * 37 + k * k * (labels[i] + 3)) % 251);
        pictures[i] = pixels[i];
        sizes[i].width = sizes[i].height = SIDE;
    }
    ft_set_preprocessing(m, preprocessing(3, SIDE, SIDE, 0));
    x = ft_conv2d(m, "c", x, 4, (ft_conv2d_options){.kernel = {3, 3}, .padding = {1, 1, 1, 1}});
    x = ft_activation(m, "relu", "r", x, (ft_activation_options){0});
    x = ft_linear(m, "l", ft_flatten(m, "f", x), 3, (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                    (ft_loss_options){0}));
    if (r->frozen) ft_freeze(m, "c.*");
    *data = ft_pixels(m, PICTURES, pictures, sizes, labels, (ft_pixels_options){.augmentation = r->a});
    return m;
}

/* The bits of the weights after a run that is stopped at step stop_at, if it has one, and continued. */
static uint64_t mixed_bits(mixed_run r)
{
    uint64_t bits = 1;
    ft_fit_result result = {0};
    int tries;
    r.o.epochs = 3;
    r.o.batch_size = 8;
    r.o.progress = stop_mixed;
    r.o.progress_user = &r;
    if (r.stop_at) r.o.checkpoint = "build/mixed_point";
    remove("build/mixed_point");
    mixed_steps = 0;
    for (tries = 0; tries < (r.stop_at ? 2 : 1); ++tries) {
        ft_data *data;
        ft_model *m = mixed_model(&r, &data);
        int i;
        result = ft_fit(m, data, r.o);
        CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        CHECK(result.stopped == (r.stop_at && tries == 0), "try %d: stopped %d", tries, result.stopped);
        for (bits = 1, i = 0; i < m->node_count; ++i)
            if (ft__is_parameter(&m->nodes[i]))
                bits = ft__hash_bytes(bits, m->nodes[i].value,
                                      ft__node_count_at(&m->nodes[i], ft__one) * sizeof(float));
        ft_destroy(m);
    }
    remove("build/mixed_point");
    return bits;
}

/* Each has an effect, the same for any number of threads and after a stop in the middle. */
static void test_mixed_runs(void)
{
    const mixed_run runs[] = {
        {.threads = 1}, {.o = {.mixup = 0.4f}, .threads = 1}, {.o = {.cutmix = 1}, .threads = 1},
        {.o = {.mixup = 0.4f, .cutmix = 1}, .threads = 1}, {.o = {.balanced_sampling = true}, .threads = 1},
        {.o = {.augment = true}, .a = {.policy = FT_TRIVIAL_AUGMENT, .erase = 0.5f}, .threads = 1},
        {.o = {.augment = true, .balanced_sampling = true, .cutmix = 1}, .a = {.policy = FT_RAND_AUGMENT}, .threads = 1,
         .frozen = true},
        {.o = {.augment = true, .balanced_sampling = true}, .a = {.policy = FT_RAND_AUGMENT}, .threads = 1, .frozen = true}};
    enum { RUNS = sizeof runs / sizeof runs[0] };
    uint64_t bits[RUNS];
    int i, k;
    for (i = 0; i < RUNS; ++i) {
        mixed_run r = runs[i];
        bits[i] = mixed_bits(r);
        for (k = 0; k < i; ++k) CHECK(bits[k] != bits[i], "runs %d and %d: the same bits", k, i);
        r.threads = 3;
        CHECK(mixed_bits(r) == bits[i], "run %d: other bits with 3 threads", i);
        r.stop_at = 6;
        CHECK(mixed_bits(r) == bits[i], "run %d: other bits after it was stopped", i);
    }
}

/* Balanced sampling: each class equally often, all of its samples before one repeats, and in other views. */
static void test_balanced(void)
{
    mixed_run r = {.o = {.balanced_sampling = true, .augment = true}, .a = {.policy = FT_TRIVIAL_AUGMENT}, .threads = 1};
    ft__fit f;
    int epoch, k, of_class[3], times[PICTURES], i, first[PICTURES], others = 0, again = 0;
    static bool seen[PICTURES][1000];
    memset(&f, 0, sizeof f);
    f.m = mixed_model(&r, &f.data);
    f.o = ft__fit_defaults(r.o);
    CHECK(ft__fit_samples(&f) == FT_OK && ft__fit_balanced(&f) == FT_OK, "%s", ft_error_text(f.m));
    CHECK(strstr(log_text, "each of 3 classes is drawn 10 times in an epoch; the smallest has 3 images"), "%s", log_text);
    f.o.epochs = 30;
    f.train_count = 29; /* 10, 10 and 9 of a class */
    for (epoch = 0; epoch < 30; ++epoch) {
        memset(of_class, 0, sizeof of_class);
        memset(times, 0, sizeof times);
        ft__fit_order(&f, epoch);
        for (i = 0; i < 29; ++i) {
            again += seen[f.order[i]][f.views[i]];
            seen[f.order[i]][f.views[i]] = true;
            of_class[ft_data_label(f.data, f.order[i])] += 1;
            times[f.order[i]] += 1;
            others += epoch > 0 && first[i] != f.order[i];
            if (epoch == 0) first[i] = f.order[i];
        }
        for (k = 0; k < 3; ++k) CHECK(of_class[k] == 9 || of_class[k] == 10, "epoch %d: %d of class %d", epoch, of_class[k], k);
        for (i = 0; i < PICTURES; ++i) {
            int label = ft_data_label(f.data, i), size = label == 0 ? 21 : label == 1 ? 6 : 3;
            CHECK(times[i] >= of_class[label] / size && times[i] <= of_class[label] / size + 1, "sample %d: %d times", i,
                  times[i]);
        }
    }
    CHECK(others > 29 * 29 / 2, "%d", others);
    CHECK(again == 0, "%d times a view that was there before", again);
    ft__release(&f.m->context, f.starts);
    ft__release(&f.m->context, f.grouped);
    ft__release(&f.m->context, f.work);
    ft__release(&f.m->context, f.views);
    ft__release(&f.m->context, f.order);
    ft__release(&f.m->context, f.held);
    ft__release(&f.m->context, f.train);
    ft_destroy(f.m);
}

/* What has no effect or no meaning is refused, and so is another augmentation in a resumed run. */
static void test_mixing_errors(void)
{
    const struct { const char *says; ft_fit_options o; } wrong[] = {
        {"mixup is -1", {.mixup = -1}}, {"cutmix", {.cutmix = (float)NAN}},
        {"balanced_sampling has no effect", {.balanced_sampling = true, .balanced = true}}};
    mixed_run r = {.o = {.augment = true, .epochs = 1, .checkpoint = "build/mixed_point"},
                   .a = {.policy = FT_TRIVIAL_AUGMENT}, .threads = 1};
    float rows[8] = {0}, targets[4] = {0};
    ft_data *data;
    ft_model *m;
    ft_node x;
    int labels[4] = {0, 1, 0, 1};
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        m = mixed_model(&r, &data);
        ft_fit(m, data, wrong[i].o);
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), wrong[i].says), "%s", ft_error_text(m));
        ft_destroy(m);
    }
    for (i = 0; i < 3; ++i) { /* no pictures; a loss without labels; data without labels of classes */
        m = ft_create((ft_desc){0});
        x = ft_linear(m, "a", ft_input(m, "input", (ft_input_options){.size = {2}}), i ? 1 : 2, (ft_linear_options){0});
        ft_set_output(m, x);
        if (i) ft_set_loss(m, ft_mse(m, "loss", x, ft_input(m, "target", (ft_input_options){.size = {1}})));
        else ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){.type = FT_I32}),
                                             (ft_loss_options){0}));
        data = ft_arrays(m, 4, rows, i ? NULL : labels, (ft_array_options){.targets = i ? targets : NULL, .target_size = i ? 1 : 0});
        ft_fit(m, data, (ft_fit_options){.cutmix = i == 0, .mixup = i == 1, .balanced_sampling = i == 2});
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), i == 0 ? "cutmix pictures" : i == 1 ? "ft_cross_entropy"
                                                                                                 : "labels of classes"),
              "%s", ft_error_text(m));
        ft_destroy(m);
    }
    for (i = 0; i < 2; ++i) {
        m = mixed_model(&r, &data);
        ft_fit(m, data, r.o);
        if (i) CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "the augmentation differs"), "%s", ft_error_text(m));
        else CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
        ft_destroy(m);
        r.a.erase = 0.5f;
    }
    remove("build/mixed_point");
}

static void test_augmented(void)
{
    ft_model *m = ft_create((ft_desc){0});
    ft_file *file = open_golden(m, "augmentation");
    test_changes(file);
    test_draws(file);
    test_policies(file);
    test_view_values(file);
    test_fields();
    test_mixed_batches(file);
    test_mixing_draws(file);
    test_two_labels(file);
    test_mixed_runs();
    test_balanced();
    test_mixing_errors();
    ft_file_close(file);
    ft_destroy(m);
}

#endif
