/* test_resume.c - a run continues only from an undamaged checkpoint of the same data and options:
   every difference is an error that names it. */
#include "check.h"
#include "finetune.h"
#include <sys/stat.h>

static const char path[] = "build/test_resume.checkpoint";

static ft_model *new_model(uint64_t seed)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.threads = 1;
    desc.seed = seed;
    return ft_create(desc);
}

static bool stop_soon(void *user, const ft_progress *p)
{
    int *left = (int *)user;
    if (!p->epoch_done) *left -= 1;
    return *left > 0;
}

static ft_schedule schedule; /* of the next runs */
static const char *checkpoint = path;

/* Stops after `steps`, or runs to its end; returns whether it did. */
static bool fit(ft_model *m, ft_data *data, int steps, float rate)
{
    ft_fit_options o;
    memset(&o, 0, sizeof o);
    o.epochs = 3;
    o.batch_size = 4;
    o.optimizer.learning_rate = rate;
    o.schedule = schedule;
    o.checkpoint = checkpoint;
    o.progress = stop_soon;
    o.progress_user = &steps;
    return ft_fit(m, data, o).epochs == 3;
}

/* Whether a run goes on; where `says` is given it must be refused so. */
static void goes_on(ft_model *m, ft_data *data, float rate, const char *says)
{
    bool done;
    CHECK(data != NULL, "%s", ft_error_text(m));
    done = fit(m, data, 1000, rate);
    if (!says) CHECK(done && !ft_error(m), "%s", ft_error_text(m));
    else CHECK(!done && ft_error(m) == FT_INVALID && strstr(ft_error_text(m), says), "%s, wanted: %s",
               ft_error_text(m), says);
    ft_destroy(m);
}

/* ---- Texts ---- */

typedef struct texts { const char *table; uint64_t seed; int hidden, longest; float rate; const char *says; } texts;

static ft_data *text_data(ft_model *m, const texts *t)
{
    ft_network_options network;
    ft_text_options o;
    ft_data *data;
    memset(&o, 0, sizeof o);
    memset(&network, 0, sizeof network);
    o.memory = t->table;
    o.bytes = strlen(t->table);
    o.longest = t->longest;
    data = ft_texts(m, NULL, o);
    network.words = ft_tokenizer_count(ft_get_tokenizer(m));
    network.classes = ft_data_classes(data);
    network.hidden = network.embedding = t->hidden;
    ft_network(m, "lstm_classifier", network);
    return data;
}

#define A "a b\tx\n"
#define B "b c\ty\n"
#define C "c d e\tx\n"
#define D "d a\ty\n"

static void test_texts(void)
{
    static const texts begun = {A B C D A B C D, 7, 4, 9, 0.01f, NULL};
    static const texts all[] = {
        {A B C D A B C "d a\tx\n", 7, 4, 9, 0.01f, "a run with other data (the labels differ)"},
        {A B C D A B C "d b\ty\n", 7, 4, 9, 0.01f, "other data (the content of the samples differs)"},
        {B A C D A B C D, 7, 4, 9, 0.01f, "other data (the samples have another order)"},
        {A B C D A B C, 7, 4, 9, 0.01f, "other data (it had 8 samples, now 7)"},
        {"a b\tx\nb c\tz\nc d e\tx\nd a\tz\n" "a b\tx\nb c\tz\nc d e\tx\nd a\tz\n", 7, 4, 9, 0.01f,
         "other data (the classes differ)"},
        {A B C D A B C D, 7, 4, 9, 0.02f, "other options (learning_rate was 0.01, now 0.02)"},
        {A B C D A B C D, 7, 4, 2, 0.01f, "other options (max_length was 9, now 2)"},
        {A B C D A B C D, 8, 4, 9, 0.01f, "another seed"},
        {A B C D A B C D, 7, 4, 9, 0.01f, NULL}};
    size_t i;
    for (i = 0; i < sizeof all / sizeof all[0]; ++i) {
        ft_model *m = new_model(begun.seed);
        remove(path);
        CHECK(!fit(m, text_data(m, &begun), 3, begun.rate) && !ft_error(m), "%s", ft_error_text(m));
        ft_destroy(m);
        m = new_model(all[i].seed);
        goes_on(m, text_data(m, &all[i]), all[i].rate, all[i].says);
    }
}

/* A checkpoint is safetensors, however its name ends. */
static void test_any_name(void)
{
    static const texts run = {A B C D A B C D, 7, 4, 9, 0.01f, NULL};
    static const char *const names[] = {"build/test_resume.onnx", "build/test_resume.keras", "build/test_resume.npz"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; ++i) {
        ft_model *m = new_model(run.seed);
        checkpoint = names[i];
        remove(checkpoint);
        CHECK(!fit(m, text_data(m, &run), 3, run.rate) && !ft_error(m), "%s", ft_error_text(m));
        ft_destroy(m);
        m = new_model(run.seed);
        goes_on(m, text_data(m, &run), run.rate, NULL);
        remove(checkpoint);
    }
    checkpoint = path;
}

/* ---- Arrays ---- */

static ft_data *array_data(ft_model *m, const float *values, const int *labels, int features)
{
    ft_array_options o;
    ft_input_options input;
    ft_linear_options linear;
    ft_loss_options loss;
    ft_node x, y, logits;
    memset(&o, 0, sizeof o);
    memset(&input, 0, sizeof input);
    memset(&linear, 0, sizeof linear);
    memset(&loss, 0, sizeof loss);
    input.size[0] = features;
    x = ft_input(m, "input", input);
    memset(&input, 0, sizeof input);
    input.type = FT_I32;
    y = ft_input(m, "labels", input);
    logits = ft_linear(m, "head", x, 2, linear);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, y, loss));
    return ft_arrays(m, 12, values, labels, o);
}

static void test_arrays(void)
{
    float values[36];
    int labels[12], change, i;
    for (change = 0; change < 4; ++change) {
        ft_model *m = new_model(1);
        for (i = 0; i < 36; ++i) values[i] = (float)(i * 7 % 11) - 5;
        for (i = 0; i < 12; ++i) labels[i] = i % 2;
        remove(path);
        CHECK(!fit(m, array_data(m, values, labels, 3), 4, 0.01f) && !ft_error(m), "%s", ft_error_text(m));
        ft_destroy(m);
        m = new_model(1);
        if (change == 1) values[35] += 0.001f;
        if (change == 2) labels[11] = 0;
        for (i = 0; change == 3 && i < 3; ++i) { /* the first two samples change places */
            float swap = values[i];
            values[i] = values[3 + i];
            values[3 + i] = swap;
        }
        goes_on(m, array_data(m, values, labels, 3), 0.01f, change == 0 ? NULL
                : change == 1 ? "the content of the samples differs" : change == 2 ? "the labels differ"
                : "the samples have another order");
    }
    { /* other layers are frozen */
        ft_model *m = new_model(1);
        ft_data *data;
        remove(path);
        CHECK(!fit(m, array_data(m, values, labels, 3), 4, 0.01f) && !ft_error(m), "%s", ft_error_text(m));
        ft_destroy(m);
        m = new_model(1);
        data = array_data(m, values, labels, 3);
        ft_freeze(m, "head.bias");
        goes_on(m, data, 0.01f, "another network, precision, stage or other frozen layers");
    }
}

/* ---- Pictures: another file under the old name ---- */

static void make_pictures(int changed)
{
    char name[100];
    int c, i, b;
    mkdir("build/resume", 0777);
    for (c = 0; c < 2; ++c)
        for (i = 0; i < 4; ++i) {
            FILE *file;
            snprintf(name, sizeof name, "build/resume/%c", 'a' + c);
            mkdir(name, 0777);
            snprintf(name, sizeof name, "build/resume/%c/p%d.ppm", 'a' + c, i);
            file = fopen(name, "wb");
            if (!file) continue;
            fprintf(file, "P6 4 4 255\n");
            for (b = 0; b < 48; ++b) fputc(20 * i + b + 90 * c + (c == 1 && i == 2 && b == 47 ? changed : 0), file);
            fclose(file);
        }
}

static ft_data *picture_data(ft_model *m)
{
    ft_image_folder_options o;
    ft_input_options input;
    ft_linear_options linear;
    ft_loss_options loss;
    ft_preprocessing p = {.width = 4, .height = 4, .channels = 3, .std = {1, 1, 1, 1}};
    ft_node x, y, logits;
    int flat[1] = {48};
    memset(&o, 0, sizeof o);
    memset(&input, 0, sizeof input);
    memset(&linear, 0, sizeof linear);
    memset(&loss, 0, sizeof loss);
    ft_set_preprocessing(m, p);
    input.size[0] = 3;
    input.size[1] = input.size[2] = 4;
    x = ft_input(m, "input", input);
    memset(&input, 0, sizeof input);
    input.type = FT_I32;
    y = ft_input(m, "labels", input);
    logits = ft_linear(m, "head", ft_reshape(m, "flat", x, 1, flat), 2, linear);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, y, loss));
    return ft_image_folder(m, "build/resume", o);
}

static void test_pictures(void)
{
    int changed;
    for (changed = 0; changed < 2; ++changed) {
        ft_model *m = new_model(1);
        remove(path);
        make_pictures(0);
        CHECK(!fit(m, picture_data(m), 3, 0.01f) && !ft_error(m), "%s", ft_error_text(m));
        ft_destroy(m);
        make_pictures(changed);
        m = new_model(1);
        goes_on(m, picture_data(m), 0.01f, changed ? "other data (the content of the samples differs)" : NULL);
    }
}

/* ---- A checkpoint that is damaged, or of another version ---- */

static unsigned char file_bytes[1 << 16];
static size_t file_count;

static void read_file(void)
{
    FILE *file = fopen(path, "rb");
    file_count = file ? fread(file_bytes, 1, sizeof file_bytes, file) : 0;
    if (file) fclose(file);
    CHECK(file_count > 100 && file_count < sizeof file_bytes, "%zu bytes", file_count);
}

static void write_file(void)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(file_bytes, 1, file_count, file) == file_count, "%s", path);
    if (file) fclose(file);
}

static unsigned char *find(const char *what)
{
    size_t i, count = strlen(what);
    for (i = 0; i + count <= file_count; ++i)
        if (!memcmp(file_bytes + i, what, count)) return file_bytes + i;
    CHECK(false, "the checkpoint has no %s", what);
    return NULL;
}

/* The checksum as it is described in formats/model_files: SplitMix64's finaliser over words. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t hash(uint64_t sum, const void *bytes, size_t count)
{
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t word;
    sum ^= count * 0x9E3779B97F4A7C15u;
    for (; count >= 8; count -= 8, at += 8) {
        memcpy(&word, at, 8);
        sum = mix(sum ^ word) + 0x9E3779B97F4A7C15u;
    }
    word = 0;
    memcpy(&word, at, count);
    return mix(sum ^ word);
}

/* Gives the bytes the checksum of what is in them now. */
static void sign(void)
{
    static const char *const keys[] = {"finetune", "training", "tokenizer", "checkpoint"};
    ft_model *m = new_model(0);
    ft_weights_options o;
    ft_file *file;
    uint64_t sum = 2, at;
    char text[20];
    unsigned char *place = find("\"checksum\":\"");
    int i;
    memset(&o, 0, sizeof o);
    o.memory = file_bytes;
    o.bytes = file_count;
    file = ft_file_open(m, NULL, o);
    for (i = 0; file && i < 4; ++i) {
        const char *entry = ft_file_metadata(file, keys[i]);
        sum = hash(sum, entry ? entry : "", entry ? strlen(entry) : 0);
    }
    for (i = 0; file && i < ft_file_count(file); ++i) {
        ft_tensor_info t = ft_file_tensor(file, i);
        sum = hash(sum, t.name, strlen(t.name));
        for (at = 0; at < t.bytes; at += 1024)
            sum = hash(sum, file_bytes + t.offset + at, t.bytes - at < 1024 ? (size_t)(t.bytes - at) : 1024);
    }
    snprintf(text, sizeof text, "%08lx%08lx", (unsigned long)(sum >> 32), (unsigned long)(sum & 0xffffffffu));
    if (place) memcpy(place + 12, text, 16);
    ft_file_close(file);
    ft_destroy(m);
}

static void is_refused(const float *values, const int *labels, const char *says)
{
    ft_model *m = new_model(1);
    ft_data *data;
    write_file();
    data = array_data(m, values, labels, 3);
    fit(m, data, 1000, 0.01f);
    if (!says) CHECK(!ft_error(m), "%s", ft_error_text(m));
    else CHECK(ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), says), "%s, wanted: %s", ft_error_text(m), says);
    ft_destroy(m);
}

static void test_damage(void)
{
    static const struct { const char *from, *to, *says; } wrong[] = {
        {"\\\"epoch\\\":1", "\\\"epoch\\\":9", "\"epoch\" is not a number from 0 to 3"},
        {"\\\"step\\\":1", "\\\"step\\\":7", "\"step\" is not a number from 0 to 3"},
        {"\\\"updates\\\":", "\\\"Updates\\\":", "\"updates\" is not a number from 0"},
        {"\\\"best_epoch\\\":-1", "\\\"best_epoch\\\":-2", "\"best_epoch\" is not a number from -1 to 3"},
        {"\\\"last\\\":[", "\\\"Last\\\":[", "\"last\" is not a score"},
        {"\\\"format\\\":2,\\\"seed", "\\\"format\\\":1,\\\"seed", "a checkpoint of format 1, but this version reads format 2"},
        {"\\\"format\\\":2,\\\"seed", "\\\"formaT\\\":2,\\\"seed", "a checkpoint of format 1, but this version reads format 2"}};
    float values[36];
    int labels[12], i;
    size_t k;
    ft_model *m = new_model(1);
    for (i = 0; i < 36; ++i) values[i] = (float)(i * 7 % 11) - 5;
    for (i = 0; i < 12; ++i) labels[i] = i % 2;
    remove(path);
    CHECK(!fit(m, array_data(m, values, labels, 3), 4, 0.01f), "%s", ft_error_text(m));
    ft_destroy(m);
    for (k = 0; k < sizeof wrong / sizeof wrong[0] + 3; ++k) {
        unsigned char *at;
        size_t row = k - 3;
        if (k == 0) read_file();
        { /* the checkpoint as it was */
            static unsigned char kept[1 << 16];
            if (k == 0) memcpy(kept, file_bytes, sizeof kept);
            memcpy(file_bytes, kept, sizeof kept);
        }
        if (k == 0) sign(); /* changes nothing: the checksum is as described */
        if (k == 0) is_refused(values, labels, NULL);
        if (k == 1) file_bytes[file_count - 3] ^= 1;
        if (k == 2) memcpy(find("\\\"steps_made\\\":4"), "\\\"steps_made\\\":5", 16);
        if (k == 1) is_refused(values, labels, "damaged checkpoint: its checksum does not match");
        if (k == 2) is_refused(values, labels, "damaged checkpoint: its checksum does not match");
        if (k < 3) continue;
        at = find(wrong[row].from);
        if (at) memcpy(at, wrong[row].to, strlen(wrong[row].to));
        sign();
        is_refused(values, labels, wrong[row].says);
    }
    remove(path);
}

/* The state of a plateau is [best, epochs seen, waited, cuts]; a sign takes
   the place of the last digit of best. */
static void test_damaged_plateau(void)
{
    static const char state[] = ",1,0,0]", wrong[] = ",-1,0,0]";
    float values[36];
    int labels[12], i;
    unsigned char *at;
    ft_model *m = new_model(1);
    for (i = 0; i < 36; ++i) values[i] = (float)(i * 7 % 11) - 5;
    for (i = 0; i < 12; ++i) labels[i] = i % 2;
    remove(path);
    schedule = FT_PLATEAU;
    CHECK(!fit(m, array_data(m, values, labels, 3), 4, 0.01f) && !ft_error(m), "%s", ft_error_text(m));
    ft_destroy(m);
    read_file();
    find("\\\"plateau\\\":[");
    at = find(state);
    if (at) memcpy(at - 1, wrong, sizeof wrong - 1);
    sign();
    is_refused(values, labels, "\"plateau\" is not a state");
    schedule = (ft_schedule)0;
    remove(path);
}

int main(void)
{
    test_texts();
    test_any_name();
    test_arrays();
    test_pictures();
    test_damage();
    test_damaged_plateau();
    return check_done("test_resume");
}
