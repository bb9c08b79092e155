/* test_hostile.c - malicious and unlucky files: graphs with references to missing nodes, numbers
   that promise more than the file holds, many of everything, pipes and devices, two writers of one
   file. Each gives a clear error or works; memory and time depend on the bytes that are there. */
#define _POSIX_C_SOURCE 200809L /* symlink */
#include "check.h"
#include "log.h"
#include "finetune.h"

#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <utime.h>

#define ROOT "build/hostile"

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1, .log = collect};
    log_text[0] = 0;
    return ft_create(desc);
}

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* ---- Files made here ---- */

typedef struct text { char *at; size_t count, capacity; } text;

static void add_bytes(text *t, const void *bytes, size_t count)
{
    if (t->count + count + 1 > t->capacity) {
        t->capacity = 2 * t->capacity + count + 1024;
        t->at = (char *)realloc(t->at, t->capacity);
    }
    memcpy(t->at + t->count, bytes, count);
    t->count += count;
    t->at[t->count] = 0;
}

static void add(text *t, const char *letters) { add_bytes(t, letters, strlen(letters)); }

static void add_number(text *t, uint64_t number, int bytes)
{
    for (; bytes > 0; --bytes, number >>= 8) {
        unsigned char byte = (unsigned char)number;
        add_bytes(t, &byte, 1);
    }
}

/* A safetensors file of this header and so many bytes of data, all 0. */
static text safetensors(const char *header, size_t data)
{
    text file = {0};
    static const char zeros[4096];
    add_number(&file, strlen(header), 8);
    add(&file, header);
    for (; data > 0; data -= data < sizeof zeros ? data : sizeof zeros)
        add_bytes(&file, zeros, data < sizeof zeros ? data : sizeof zeros);
    return file;
}

/* A model file's header: this network, and what tensors there are. */
static text model_header(const char *nodes, int output, const char *tensors)
{
    text json = {0};
    const char *at;
    char number[24];
    add(&json, "{\"__metadata__\":{\"finetune\":\"");
    for (at = nodes; *at; ++at) {
        if (*at == '"') add(&json, "\\");
        add_bytes(&json, at, 1);
    }
    snprintf(number, sizeof number, "%d", output);
    add(&json, ",\\\"output\\\":");
    add(&json, number);
    add(&json, "}\"}");
    add(&json, tensors);
    add(&json, "}");
    return json;
}

#define NETWORK "{\"format\":1,\"architecture\":\"\",\"nodes\":["
#define INPUT4 "{\"op\":\"input\",\"name\":\"input\",\"type\":\"F32\",\"shape\":[-1,4]}"
#define REST ",\"loss\":-1,\"classes\":[],\"preprocessing\":{\"width\":0,\"height\":0," \
    "\"channels\":0,\"resize\":0,\"mean\":[0,0,0,0],\"std\":[1,1,1,1]}"

static ft_status load(ft_model *m, text file)
{
    ft_load_options options;
    memset(&options, 0, sizeof options);
    options.weights.memory = file.at;
    options.weights.bytes = file.count;
    return ft_load(m, NULL, options);
}

/* ---- A leaf as output or loss: an input or a weight, which no operator computes ---- */

static void test_leaf(void)
{
    static const struct { const char *nodes, *tensors; int output; const char *word; } rows[] = {
        {NETWORK INPUT4 "]" REST, "", 0, "output is input"},
        {NETWORK INPUT4 ",{\"op\":\"parameter\",\"name\":\"w\",\"shape\":[4]}]" REST,
         ",\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}", 1, "output is w"},
        {NETWORK INPUT4 ",{\"op\":\"relu\",\"name\":\"r\",\"inputs\":[0]}]" REST, "", 2, "output"},
        {NETWORK INPUT4 ",{\"op\":\"relu\",\"name\":\"r\",\"inputs\":[0]}]" REST, "", -2, "output"}};
    size_t i;
    ft_node input, weight;
    ft_model *m = new_model();
    for (i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        text header = model_header(rows[i].nodes, rows[i].output, rows[i].tensors);
        text file = safetensors(header.at, rows[i].tensors[0] ? 16 : 0);
        CHECK(load(m, file) == FT_FORMAT && strstr(ft_error_text(m), rows[i].word), "row %d: %s",
              (int)i, ft_error_text(m));
        ft_clear_error(m);
        free(header.at);
        free(file.at);
    }
    input = ft_input(m, "input", (ft_input_options){.size = {4}});
    weight = ft_parameter(m, "w", (ft_parameter_options){.size = {4}});
    ft_set_output(m, input);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "input"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_set_output(m, weight);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "w is a weight"), "%s",
          ft_error_text(m));
    ft_clear_error(m);
    ft_set_loss(m, ft_parameter(m, "one", (ft_parameter_options){.size = {1}}));
    CHECK(ft_error(m) == FT_INVALID, "a weight as loss");
    ft_clear_error(m);
    CHECK(ft_output(m).id == 0 && ft_loss(m).id == 0, "none was set");
    ft_destroy(m);
}

/* A loss that nothing trained leads to: there are no gradients, and nothing is written. */
static void test_loss_of_nothing(void)
{
    static const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    ft_model *m = new_model();
    ft_node input = ft_input(m, "input", (ft_input_options){.size = {4}});
    ft_node goal = ft_input(m, "goal", (ft_input_options){.size = {4}});
    ft_set_output(m, ft_linear(m, "fc", input, 2, (ft_linear_options){0}));
    ft_set_loss(m, ft_mse(m, "loss", input, goal));
    ft_feed(m, input, x, 2);
    ft_feed(m, goal, x, 2);
    ft_forward(m, true);
    ft_backward(m);
    ft_update(m, 0.1f);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Numbers that promise more than the file holds, and many of everything ---- */

/* Opening `file` as a network takes at most this long and 64 MiB + 4 times its bytes. Called in a
   process of its own: what a process took at the most never falls. Exits 0, or 1 where it is
   refused with a text, 2 where it took too much memory, 3 too long. */
static void open_bounded(text file, double most_seconds)
{
    struct rusage before, after;
    ft_model *m = new_model();
    double start = seconds();
    int code;
    getrusage(RUSAGE_SELF, &before);
    code = load(m, file) != FT_OK;
    getrusage(RUSAGE_SELF, &after);
    if (code && !*ft_error_text(m)) code = 4;
    if ((size_t)(after.ru_maxrss - before.ru_maxrss) * 1024 > ((size_t)64 << 20) + 3 * file.count)
        code = 2; /* the file's own bytes are the fourth */
    if (seconds() - start > most_seconds) code = 3;
    _exit(code);
}

static void bounded(const char *what, text file, int expected)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) open_bounded(file, 3);
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == expected, "%s (%zu bytes): %d", what,
          file.count, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    free(file.at);
}

static text repeated(const char *before, const char *format, int count, const char *after)
{
    text t = {0};
    char piece[200];
    int i;
    add(&t, before);
    for (i = 0; i < count; ++i) {
        snprintf(piece, sizeof piece, format, i, i);
        add(&t, piece);
    }
    add(&t, after);
    return t;
}

static void many(const char *what, text header, int expected)
{
    bounded(what, safetensors(header.at, 0), expected);
    free(header.at);
}

/* A network of many nodes or class names, as its model file has it. */
static void many_in_graph(const char *what, text nodes, int output)
{
    text header = model_header(nodes.at, output, "");
    many(what, header, 0);
    free(nodes.at);
}

/* A zip file of these two entries, stored; `data` may be empty. */
static text zip_file(text pickle, size_t data)
{
    static const char *const names[] = {"a/data.pkl", "a/data/0"};
    size_t sizes[2], at[2], begin;
    text zip = {0}, zeros = {0};
    int i;
    while (zeros.count < data) add_number(&zeros, 0, 1);
    sizes[0] = pickle.count;
    sizes[1] = zeros.count;
    for (i = 0; i < 2; ++i) {
        at[i] = zip.count;
        add_number(&zip, 0x04034b50, 4);
        add_number(&zip, 0, 14);
        add_number(&zip, sizes[i], 4);
        add_number(&zip, sizes[i], 4);
        add_number(&zip, strlen(names[i]), 4);
        add(&zip, names[i]);
        if (sizes[i]) add_bytes(&zip, i ? zeros.at : pickle.at, sizes[i]);
    }
    begin = zip.count;
    for (i = 0; i < 2; ++i) {
        add_number(&zip, 0x02014b50, 4);
        add_number(&zip, 0, 16);
        add_number(&zip, sizes[i], 4);
        add_number(&zip, sizes[i], 4);
        add_number(&zip, strlen(names[i]), 2);
        add_number(&zip, 0, 12);
        add_number(&zip, at[i], 4);
        add(&zip, names[i]);
    }
    at[0] = zip.count - begin;
    add_number(&zip, 0x06054b50, 4);
    add_number(&zip, 0, 4);
    add_number(&zip, 2, 2);
    add_number(&zip, 2, 2);
    add_number(&zip, at[0], 4);
    add_number(&zip, begin, 4);
    add_number(&zip, 0, 2);
    free(zeros.at);
    free(pickle.at);
    return zip;
}

static text pickle_of(const char *before, size_t before_bytes, const char *piece, size_t bytes,
                      int times, const char *after)
{
    text t = {0};
    add_bytes(&t, before, before_bytes);
    for (; times > 0; --times) add_bytes(&t, piece, bytes);
    add(&t, after);
    return t;
}

/* A state_dict of one weight over 64 bytes; `shape` is what the pickle says after its storage. */
static text one_tensor(const char *shape, size_t bytes)
{
    text t = {0};
    add(&t, "\x80\x02}(X");
    add_number(&t, 9, 4);
    add(&t, "fc.weightctorch._utils\n_rebuild_tensor_v2\n((X");
    add_number(&t, 7, 4);
    add(&t, "storagectorch\nFloatStorage\nX");
    add_number(&t, 1, 4);
    add(&t, "0X");
    add_number(&t, 3, 4);
    add(&t, "cpuK\x10tQ");
    add_bytes(&t, shape, bytes);
    add(&t, "\x89}tRu.");
    return t;
}

/* Its shape is [2 to the power of 30, 3], by strides of 0. */
static text wide_tensor(void)
{
    static const char shape[] = "K\0(J\0\0\0\x40K\x03tK\0K\0\x86";
    return one_tensor(shape, sizeof shape - 1);
}

/* Its shape is a number, and its strides are (). */
static text shapeless_tensor(void)
{
    static const char shape[] = "K\0K\x01)";
    return one_tensor(shape, sizeof shape - 1);
}

static void test_many(void)
{
    ft_model *m = new_model();
    text file;
    ft_load_options options;
    many("a header of 100,000 tensors",
         repeated("{", "\"t%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", 100000,
                  "\"u\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"), 1);
    many("a header of 3,000,000 values", repeated("{\"a\":[", "0,%.0d", 3000000, "0]}"), 1);
    many_in_graph("5,000 nodes",
                  repeated(NETWORK INPUT4, ",{\"op\":\"relu\",\"name\":\"r%d\",\"inputs\":[%d]}",
                           5000, "]" REST), 5000);
    file = repeated(NETWORK "{\"op\":\"input\",\"name\":\"input\",\"type\":\"F32\","
                    "\"shape\":[-1,50000]},{\"op\":\"relu\",\"name\":\"r\",\"inputs\":[0]}],"
                    "\"loss\":-1,\"classes\":[", "\"c%d\",", 49999, "\"last\"],"
                    "\"preprocessing\":{\"width\":0,\"height\":0,\"channels\":0,\"resize\":0,"
                    "\"mean\":[0,0,0,0],\"std\":[1,1,1,1]}");
    many_in_graph("50,000 class names", file, 1);
    bounded("a pickle of 60,000 references to 60,000 items",
            zip_file(pickle_of("\x80\x02}q\x01(K\x01K\x01u0}(", 15, "K\x01h\x01", 4, 60000, "u."), 0),
            1);
    bounded("a pickle of 4,000,000 lists", zip_file(pickle_of("\x80\x02", 2, "]", 1, 4000000, "."), 0),
            1);
    bounded("a pickle of 4,000,000 marks", zip_file(pickle_of("\x80\x02", 2, "(", 1, 4000000, "."), 0),
            1);
    memset(&options, 0, sizeof options);
    file = zip_file(wide_tensor(), 64);
    options.weights.memory = file.at;
    options.weights.bytes = file.count;
    ft_linear(m, "fc", ft_input(m, "x", (ft_input_options){.size = {3}}), 2, (ft_linear_options){0});
    CHECK(ft_load_weights(m, NULL, options.weights) == FT_FORMAT
          && strstr(ft_error_text(m), "fc.weight"), "%s", ft_error_text(m));
    free(file.at);
    ft_clear_error(m);
    file = zip_file(shapeless_tensor(), 64);
    options.weights.memory = file.at;
    options.weights.bytes = file.count;
    CHECK(ft_load_weights(m, NULL, options.weights) == FT_MISMATCH
          && strstr(ft_error_text(m), "fc.weight a sparse or other special tensor instead of [2, 3]"),
          "%s", ft_error_text(m));
    free(file.at);
    ft_clear_error(m);
    /* Memory 1,000,000 of a file of some 300 bytes; number 64 may be. */
    file = zip_file(pickle_of("\x80\x02}r\x40\x42\x0f\0.", 9, "", 0, 0, ""), 0);
    options.weights.memory = file.at;
    options.weights.bytes = file.count;
    CHECK(ft_load_weights(m, NULL, options.weights) == FT_FORMAT
          && strstr(ft_error_text(m), "remembers too much"), "%s", ft_error_text(m));
    free(file.at);
    ft_clear_error(m);
    file = zip_file(pickle_of("\x80\x02}r\x40\0\0\0.", 9, "", 0, 0, ""), 0);
    options.weights.memory = file.at;
    options.weights.bytes = file.count;
    CHECK(ft_load_weights(m, NULL, options.weights) != FT_OK
          && !strstr(ft_error_text(m), "remembers"), "%s", ft_error_text(m));
    free(file.at);
    ft_destroy(m);
}

/* ---- Writing ---- */

static char *content_of(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *content = NULL;
    *bytes = 0;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    content = (char *)malloc(*bytes + 1);
    if (fread(content, 1, *bytes, file) != *bytes) *bytes = 0;
    fclose(file);
    return content;
}

static void write_text(const char *path, const char *letters)
{
    FILE *file = fopen(path, "wb");
    if (!file) return;
    fputs(letters, file);
    fclose(file);
}

/* Saves a model whose bytes depend on `which`, of about 1 MB. */
static ft_status save(ft_model *m, const char *path, int which)
{
    ft_save_options options = {.type = which ? FT_F16 : FT_F32};
    if (!ft_find(m, "w").id)
        ft_parameter(m, "w", (ft_parameter_options){.size = {500, which ? 1000 : 500}});
    return ft_save(m, path, options);
}

static int files_in(const char *folder)
{
    char command[300], answer[32] = "";
    FILE *pipe;
    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    pipe = popen(command, "r");
    if (pipe && !fgets(answer, sizeof answer, pipe)) answer[0] = 0;
    if (pipe) pclose(pipe);
    return atoi(answer);
}

/* Two processes that save into one path at once: one of the two contents, whole, whoever was last,
   and both may say that they saved. */
static void test_two_writers(void)
{
    static const char path[] = ROOT "/both.safetensors";
    size_t bytes[3];
    char *want[2], *got;
    int round, which, status;
    pid_t child[2];
    for (which = 0; which < 2; ++which) {
        ft_model *m = new_model();
        CHECK(save(m, path, which) == FT_OK, "%s", ft_error_text(m));
        want[which] = content_of(path, &bytes[which]);
        ft_destroy(m);
    }
    for (round = 0; round < 4; ++round) {
        remove(path);
        for (which = 0; which < 2; ++which) {
            child[which] = fork();
            if (child[which] == 0) {
                ft_model *m = new_model();
                int times;
                for (times = 0; times < 3; ++times) save(m, path, which);
                _exit(ft_error(m) == FT_OK ? 0 : 1);
            }
        }
        for (which = 0; which < 2; ++which) {
            waitpid(child[which], &status, 0);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "writer %d: %d", which, status);
        }
        got = content_of(path, &bytes[2]);
        CHECK(got && ((bytes[2] == bytes[0] && !memcmp(got, want[0], bytes[0]))
                      || (bytes[2] == bytes[1] && !memcmp(got, want[1], bytes[1]))),
              "round %d: mixed", round);
        free(got);
    }
    remove(path);
    CHECK(files_in(ROOT) == 0, "something is left");
    free(want[0]);
    free(want[1]);
}

/* What may not be replaced is still there, and the error says what it is. */
/* What a killed writer left goes when the path is written again; anything younger, and what only looks
   like it, stays. */
static void test_stale(ft_model *m)
{
    static const struct { const char *name; long age; bool stays; } files[] = {
        {ROOT "/m.safetensors.0123abcd.partial", 90000, false},
        {ROOT "/m.safetensors.ffffffff.partial", 80000, true},
        {ROOT "/m.safetensors.0123abc.partial", 90000, true},
        {ROOT "/m.safetensors.0123abcx.partial", 90000, true},
        {ROOT "/m.safetensors.0123abcd.partial.old", 90000, true},
        {ROOT "/n.safetensors.0123abcd.partial", 90000, true},
        {ROOT "/m.safetensors.checkpoint.0123abcd.partial", 90000, true}};
    size_t i, count = sizeof files / sizeof *files;
    struct stat s;
    for (i = 0; i < count; ++i) {
        struct utimbuf times;
        write_text(files[i].name, "half a file");
        times.actime = times.modtime = time(NULL) - files[i].age;
        CHECK(utime(files[i].name, &times) == 0, "%s", files[i].name);
    }
    CHECK(save(m, ROOT "/m.safetensors", 0) == FT_OK, "%s", ft_error_text(m));
    for (i = 0; i < count; ++i)
        CHECK((stat(files[i].name, &s) == 0) == files[i].stays, "%s %s", files[i].name,
              files[i].stays ? "was removed" : "is still there");
    for (i = 0; i < count; ++i) remove(files[i].name);
    remove(ROOT "/m.safetensors");
}

static void test_special_targets(void)
{
    ft_model *m = new_model();
    struct stat s;
    size_t bytes;
    char *content;
    static const char *const names[] = {ROOT "/fifo", ROOT "/folder", ROOT "/link"};
    int i;
    mkfifo(names[0], 0600);
    mkdir(names[1], 0700);
    CHECK(symlink("/dev/null", names[2]) == 0, "a link to a device");
    for (i = 0; i < 3; ++i) {
        CHECK(save(m, names[i], 0) == FT_IO && strstr(ft_error_text(m), names[i])
              && strstr(ft_error_text(m), i == 1 ? "a folder" : "a pipe, a device"), "%s",
              ft_error_text(m));
        ft_clear_error(m);
    }
    CHECK(stat(names[0], &s) == 0 && S_ISFIFO(s.st_mode), "the pipe is there");
    CHECK(lstat(names[2], &s) == 0 && S_ISLNK(s.st_mode), "the link is there");
    CHECK(files_in(ROOT) == 3, "something is left");
    for (i = 0; i < 3; ++i) remove(names[i]);
    /* A link to a regular file is replaced itself; what it led to stays. */
    write_text(ROOT "/precious", "precious");
    CHECK(symlink("precious", ROOT "/m.safetensors") == 0, "a link");
    CHECK(symlink("precious", ROOT "/m.safetensors.partial") == 0, "a link where it wrote once");
    CHECK(save(m, ROOT "/m.safetensors", 0) == FT_OK, "%s", ft_error_text(m));
    content = content_of(ROOT "/precious", &bytes);
    CHECK(content && bytes == 8, "what the link led to was written over");
    CHECK(lstat(ROOT "/m.safetensors", &s) == 0 && S_ISREG(s.st_mode), "a file of its own");
    free(content);
    remove(ROOT "/precious");
    remove(ROOT "/m.safetensors");
    remove(ROOT "/m.safetensors.partial");
    test_stale(m);
    CHECK(save(m, ROOT "/no/such/m.safetensors", 0) == FT_IO
          && strstr(ft_error_text(m), "does its folder exist"), "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A pipe that nobody writes to is no model, and is not waited for. */
static void test_pipe(void)
{
    ft_model *m = new_model();
    mkfifo(ROOT "/pipe", 0600);
    alarm(20);
    CHECK(ft_load(m, ROOT "/pipe", (ft_load_options){0}) == FT_IO, "%s", ft_error_text(m));
    alarm(0);
    remove(ROOT "/pipe");
    ft_destroy(m);
}

int main(void)
{
    CHECK(system("rm -rf " ROOT " && mkdir -p " ROOT) == 0, "a folder");
    test_leaf();
    test_loss_of_nothing();
    test_many();
    test_two_writers();
    test_special_targets();
    test_pipe();
    return check_done("test_hostile");
}
