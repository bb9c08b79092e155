/* onnx_nodes.c - for test_onnx_nodes.sh: runs ONNX's own tests of single operators.
       onnx_nodes FOLDER REASONS [list]
   FOLDER has a folder for each test: model.onnx, test_data_set_0/input_0.pb, ..., output_0.pb, ....
   Run are the tests of which all operators are read (docs/onnx.md) and all inputs and outputs are
   tensors of numbers. Each is tried in these ways until one gives the expected numbers:
   - all its inputs are fed; the first axis is the batch, as in any ONNX file with fixed sizes;
   - some inputs are fed, the others are constants: weights, shapes and indices are so in real files;
   - inputs are fed with another axis in front, as the batch, and turned by a Transpose before the
     operator, as exporters write it: for operators that work along the first axis;
   - all its inputs are constants: it is computed while the file is read.
   REASONS has a line for each test that none of them can run: its name (or a pattern of names), and why.
   A test that fails without such a line, and a line without such a test, are failures. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <fnmatch.h>
#include "internals.h"
#include "check.h"
#include "goldens.h"

enum { MOST_TENSORS = 16, MOST_TESTS = 4096, MOST_REASONS = 400 };
enum { FED, SOME_FED, TURNED, COMPUTED, WAYS };

typedef struct bytes { unsigned char *at; size_t count; } bytes;

typedef struct reason { char pattern[80], why[200]; int used; } reason;

/* A test: its graph, and as initialisers of a second graph its inputs and outputs. */
typedef struct node_test {
    char name[100];
    bytes model, numbers, tensors[MOST_TENSORS]; /* TensorProtos: the inputs, then the outputs */
    char tensor_name[MOST_TENSORS][100];
    int inputs, outputs;
    ft_model *host;
    ft_file *data;          /* numbers: tensors[] in a graph without nodes */
    bool claimed, other_types; /* than float32, int64 and bool */
    char unclaimed[100];    /* if not: an operator or a type */
    char error[400];        /* of the first way in which its inputs could be read */
} node_test;

static reason reasons[MOST_REASONS];
static int reason_count;

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1};
    return ft_create(desc);
}

/* ---- Messages ---- */

static bytes read_bytes(const char *path)
{
    bytes all = {NULL, 0};
    all.at = bytes_of_file(path, &all.count);
    return all;
}

static void add(bytes *to, const void *from, size_t count)
{
    to->at = (unsigned char *)realloc(to->at, to->count + count + 1);
    if (count) memcpy(to->at + to->count, from, count);
    to->count += count;
}

static void add_varint(bytes *to, size_t number)
{
    do {
        unsigned char byte = (unsigned char)((number & 127) | (number > 127 ? 128 : 0));
        add(to, &byte, 1);
        number >>= 7;
    } while (number);
}

/* A field that holds bytes. */
static void add_field(bytes *to, size_t field, const void *from, size_t count)
{
    add_varint(to, field * 8 + 2);
    add_varint(to, count);
    add(to, from, count);
}

static size_t read_varint(const bytes *from, size_t *at)
{
    size_t number = 0;
    int shift = 0;
    do number |= (size_t)(from->at[*at] & 127) << shift;
    while (from->at[(*at)++] & 128 && (shift += 7) < 64);
    return number;
}

/* Adds an initialiser: a TensorProto under another name. */
static void add_initialiser(bytes *graph, const bytes *tensor, const char *name)
{
    bytes named = {NULL, 0};
    add(&named, tensor->at, tensor->count);
    add_field(&named, 8, name, strlen(name)); /* the last one counts */
    add_field(graph, 5, named.at, named.count);
    free(named.at);
}

/* Adds a field that holds a number. */
static void add_number(bytes *to, size_t field, size_t number)
{
    add_varint(to, field * 8);
    add_varint(to, number);
}

/* Adds a message that was made, and frees it. */
static void add_message(bytes *to, size_t field, bytes *message)
{
    add_field(to, field, message->at, message->count);
    free(message->at);
}

/* Adds to a graph an input whose axis `axis` is in front, and the Transpose to `name`. */
static void add_turned(bytes *nodes, bytes *graph, const ft__onnx_tensor *t, const char *name, int axis)
{
    bytes info = {NULL, 0}, type = {NULL, 0}, tensor = {NULL, 0}, shape = {NULL, 0}, node = {NULL, 0}, turn = {NULL, 0};
    char turned[120];
    int d;
    snprintf(turned, sizeof turned, "%s.turned", name);
    for (d = 0; d < t->rank; ++d) {
        bytes dim = {NULL, 0};
        int from = d == 0 ? axis : d <= axis ? d - 1 : d;
        add_number(&dim, 1, (size_t)t->size[from]);
        add_message(&shape, 1, &dim);
        add_number(&turn, 8, (size_t)(d == axis ? 0 : d < axis ? d + 1 : d)); /* axis d of the operator's input */
    }
    add_number(&tensor, 1, (size_t)t->type);
    add_message(&tensor, 2, &shape);
    add_message(&type, 1, &tensor);
    add_field(&info, 1, turned, strlen(turned));
    add_message(&info, 2, &type);
    add_message(graph, 11, &info);
    add_field(&turn, 1, "perm", 4);
    add_number(&turn, 20, 7);
    add_field(&node, 1, turned, strlen(turned));
    add_field(&node, 2, name, strlen(name));
    add_field(&node, 4, "Transpose", 9);
    add_message(&node, 5, &turn);
    add_message(nodes, 1, &node);
}

/* Whether a field of a graph is its input `name`, which is also the name of another's output then. */
static bool is_input(const bytes *info, const char *name)
{
    size_t at = 1, size = read_varint(info, &at);
    return strlen(name) == size && memcmp(info->at + at, name, size) == 0;
}

/* The graph without the inputs that `nodes` make, these nodes in front, and `more` at the end. */
static bytes changed_graph(bytes graph, const bytes *nodes, const bytes *more, char (*made)[100], int count)
{
    bytes all = {NULL, 0};
    size_t at = 0, start, size, key;
    int i;
    add(&all, nodes->at, nodes->count);
    while (at < graph.count) {
        bool drop = false;
        start = at;
        key = read_varint(&graph, &at);
        size = read_varint(&graph, &at);
        if ((key & 7) == 2) {
            bytes inside = {graph.at + at, size};
            for (i = 0; i < count; ++i) drop = drop || (key >> 3 == 11 && is_input(&inside, made[i]));
            at += size;
        }
        if (!drop) add(&all, graph.at + start, at - start);
    }
    add(&all, more->at, more->count);
    return all;
}

/* The model with its graph changed so. */
static bytes changed(const bytes *model, const bytes *nodes, const bytes *more, char (*made)[100], int count)
{
    bytes all = {NULL, 0};
    size_t at = 0, start, size, key;
    while (at < model->count) {
        start = at;
        key = read_varint(model, &at);
        size = read_varint(model, &at);
        if ((key & 7) == 2) {
            if (key >> 3 == 7) {
                bytes graph = changed_graph((bytes){model->at + at, size}, nodes, more, made, count);
                add_message(&all, 7, &graph);
                at += size;
                continue;
            }
            at += size;
        }
        add(&all, model->at + start, at - start);
    }
    return all;
}

/* ---- A test's files ---- */

static ft_file *open_bytes(ft_model *m, const bytes *content)
{
    ft_weights_options options = {.memory = content->at, .bytes = content->count};
    return ft_file_open(m, "model.onnx", options);
}

/* Whether a test has these operators and types is told by its graph alone. */
static void look(node_test *t)
{
    ft_model *m = new_model();
    ft_file *file = open_bytes(m, &t->model);
    const ft__onnx *x = file ? (const ft__onnx *)file->own : NULL;
    int i;
    t->claimed = x != NULL;
    if (!x) snprintf(t->unclaimed, sizeof t->unclaimed, "%s", ft_error_text(m));
    for (i = 0; x && i < x->node_count; ++i) {
        const ft__onnx_node *n = &x->nodes[i];
        if (ft__onnx_map_of(n) || (!*n->domain && ft__onnx_fold_of(n->op))) continue;
        t->claimed = false;
        snprintf(t->unclaimed, sizeof t->unclaimed, "%s", n->op);
    }
    for (i = 0; x && i < x->input_count + x->output_count; ++i) {
        int value = i < x->input_count ? x->inputs[i] : x->outputs[i - x->input_count];
        int type = x->values[value].type;
        if (i < MOST_TENSORS)
            snprintf(t->tensor_name[i], sizeof t->tensor_name[i], "%s", x->values[value].name);
        if (type != FT__ONNX_F32 && type != FT__ONNX_I64 && type != FT__ONNX_BOOL) t->other_types = true;
        if (i >= MOST_TENSORS || ft__onnx_type_bytes(type)) continue;
        if (t->claimed) snprintf(t->unclaimed, sizeof t->unclaimed, "type %d", type);
        t->claimed = false;
    }
    if (x) t->inputs = x->input_count;
    if (x) t->outputs = x->output_count;
    if (t->inputs + t->outputs > MOST_TENSORS) t->claimed = false;
    ft_file_close(file);
    ft_destroy(m);
}

static void read_test(node_test *t, const char *folder)
{
    char path[600];
    bytes graph = {NULL, 0};
    int i;
    snprintf(path, sizeof path, "%s/%s/model.onnx", folder, t->name);
    t->model = read_bytes(path);
    look(t);
    for (i = 0; t->claimed && i < t->inputs + t->outputs; ++i) {
        char name[20];
        bool input = i < t->inputs;
        snprintf(path, sizeof path, "%s/%s/test_data_set_0/%s_%d.pb", folder, t->name, input ? "input" : "output",
                 input ? i : i - t->inputs);
        t->tensors[i] = read_bytes(path);
        snprintf(name, sizeof name, "%d", i);
        if (t->tensors[i].at) add_initialiser(&graph, &t->tensors[i], name);
    }
    if (t->claimed) {
        t->numbers = changed(&(bytes){(unsigned char *)"\x08\x08\x42\x02\x10\x11\x3a\x00", 8}, &(bytes){NULL, 0}, &graph, NULL, 0);
        t->host = new_model();
        t->data = open_bytes(t->host, &t->numbers);
        CHECK(t->data, "%s: %s", t->name, ft_error_text(t->host));
    }
    free(graph.at);
}

static void free_test(node_test *t)
{
    int i;
    for (i = 0; i < t->inputs + t->outputs && i < MOST_TENSORS; ++i) free(t->tensors[i].at);
    if (t->host) ft_file_close(t->data);
    if (t->host) ft_destroy(t->host);
    free(t->model.at);
    free(t->numbers.at);
}

/* Tensor i of a test; NULL: it has none. */
static const ft__onnx_tensor *tensor_of(const node_test *t, int i)
{
    const ft__onnx *x = t->data ? (const ft__onnx *)t->data->own : NULL;
    char name[20];
    int k;
    snprintf(name, sizeof name, "%d", i);
    for (k = 0; x && k < x->tensor_count; ++k)
        if (!strcmp(x->values[x->tensors[k].value].name, name)) return &x->tensors[k];
    return NULL;
}

static double number_of(const ft__onnx_tensor *tensor, size_t i)
{
    return ft__onnx_decode(tensor->data + i * (size_t)ft__onnx_type_bytes(tensor->type), tensor->type);
}

/* ---- Running it ---- */

static bool failed(node_test *t, const char *why)
{
    if (!*t->error || strstr(t->error, "another batch")) snprintf(t->error, sizeof t->error, "%s", why);
    return false;
}

/* Compares output k, `got` in ONNX's order. */
static bool agrees(node_test *t, int k, const double *got, size_t count)
{
    const ft__onnx_tensor *want = tensor_of(t, t->inputs + k);
    double largest = 0;
    size_t i;
    char text[100];
    if (!want || want->count != count) return failed(t, "its output has another size");
    for (i = 0; i < count; ++i)
        if (fabs(number_of(want, i)) > largest && isfinite(number_of(want, i))) largest = fabs(number_of(want, i));
    for (i = 0; i < count; ++i) {
        double a = got[i], b = number_of(want, i);
        if ((isnan(a) && isnan(b)) || (isinf(a) && isinf(b) && (a > 0) == (b > 0))) continue;
        if (fabs(a - b) <= 1e-5 * largest) continue;
        snprintf(text, sizeof text, "number %d of output %d is %g, not %g", (int)i, k, a, b);
        return failed(t, text);
    }
    return true;
}

/* Where number i of ONNX's value is in the node, which has the batch in front. */
static size_t place_in_node(const ft__onnx_value *v, size_t batch, size_t i)
{
    size_t size[FT__ONNX_RANK], at[FT__ONNX_RANK], outer = v->outer.k > 1 ? (size_t)v->outer.k : 1, inner, place;
    int d;
    for (d = v->rank - 1; d >= 0; --d) {
        size[d] = (size_t)v->size[d].k;
        if (v->size[d].n) size[d] *= batch;
        at[d] = i % size[d];
        i /= size[d];
    }
    inner = size[v->batch] / batch / outer;
    place = at[v->batch] / inner % batch * (size[v->batch] / batch)
        + at[v->batch] / inner / batch * inner + at[v->batch] % inner;
    for (d = 0; d < v->rank; ++d)
        if (d != v->batch) place = place * size[d] + at[d];
    return place;
}

/* A value that was computed while the file was read. */
static bool constant_agrees(node_test *t, ft__onnx *x, int k)
{
    ft__onnx_value *v = &x->values[x->outputs[k]];
    int64_t count = ft__onnx_count(v), i;
    bool same;
    double *got;
    if (v->kind != FT__ONNX_CONSTANT || count < 0 || !ft__onnx_numbers(x, v))
        return failed(t, "it is not computed while it is read");
    got = (double *)calloc((size_t)count + 1, sizeof *got);
    for (i = 0; i < count; ++i) got[i] = ft__onnx_at(v, i).k;
    same = agrees(t, k, got, (size_t)count);
    free(got);
    return same;
}

static bool node_agrees(node_test *t, ft_model *m, const ft__onnx *x, int k, size_t batch)
{
    const ft__onnx_value *v = &x->values[x->outputs[k]];
    const ft__onnx_tensor *want = tensor_of(t, t->inputs + k);
    ft_node node = k ? ft_find(m, v->name) : ft_output(m);
    size_t count = want ? (size_t)want->count : 0, i;
    float *numbers = (float *)calloc(count + 1, sizeof *numbers);
    double *got = (double *)calloc(count + 1, sizeof *got);
    bool same;
    if (!want || ft_get(m, node, numbers, count) != FT_OK) same = failed(t, ft_error_text(m));
    else {
        for (i = 0; i < count; ++i) got[i] = (double)numbers[place_in_node(v, batch, i)];
        same = agrees(t, k, got, count);
    }
    free(numbers);
    free(got);
    return same;
}

/* Number k of an input, of which axis `axis` is in front. */
static double turned_number(const ft__onnx_tensor *t, size_t k, int axis)
{
    size_t before = 1, after = 1, size = (size_t)t->size[axis], in_row;
    int d;
    for (d = 0; d < axis; ++d) before *= (size_t)t->size[d];
    for (d = axis + 1; d < t->rank; ++d) after *= (size_t)t->size[d];
    in_row = k % (before * after);
    return number_of(t, (in_row / after * size + k / (before * after)) * after + in_row % after);
}

/* Feeds the inputs of the set `fed`, axis `axis` in front. Returns the batch, 0 with an error. */
static size_t feed(node_test *t, ft_model *m, unsigned fed, int axis)
{
    int i;
    size_t batch = 0, k;
    bool main = true;
    for (i = 0; i < t->inputs; ++i) {
        const ft__onnx_tensor *tensor = tensor_of(t, i);
        char name[120];
        ft_node node;
        float *floats;
        int *wholes;
        if (!(fed >> i & 1) || !tensor) continue;
        snprintf(name, sizeof name, "%s%s", t->tensor_name[i], axis ? ".turned" : "");
        node = ft_find(m, name);
        if (main) node = ft_find(m, ft_find(m, "tokens").id ? "tokens" : "input");
        else if (!strcmp(name, "input")) node = ft_find(m, "input_");
        main = false;
        if (!node.id || tensor->rank < 1) continue;
        batch = (size_t)tensor->size[axis];
        floats = (float *)calloc((size_t)tensor->count + 1, sizeof *floats);
        wholes = (int *)calloc((size_t)tensor->count + 1, sizeof *wholes);
        for (k = 0; k < tensor->count; ++k) {
            floats[k] = (float)turned_number(tensor, k, axis);
            wholes[k] = (int)floats[k];
        }
        ft_feed(m, node, ft_node_type(m, node) == FT_I32 ? (void *)wholes : (void *)floats, (int)batch);
        free(floats);
        free(wholes);
        if (ft_error(m)) return 0;
    }
    return batch;
}

/* Tries a test with the inputs of the set `fed` as inputs, axis `axis` in front, the others as
   constants. */
static bool passes(node_test *t, unsigned fed, int axis)
{
    char made[MOST_TENSORS][100];
    ft_model *m = new_model(), *reader = new_model();
    bytes more = {NULL, 0}, nodes = {NULL, 0}, model;
    ft_load_options options;
    ft_file *file;
    ft__onnx *x;
    size_t batch;
    int i, k, count = 0;
    bool same = true;
    for (i = 0; i < t->inputs; ++i) {
        const ft__onnx_tensor *tensor = tensor_of(t, i);
        if (fed >> i & 1 ? !tensor || axis >= tensor->rank + !axis : false) same = false;
        else if (!(fed >> i & 1) && tensor) add_initialiser(&more, &t->tensors[i], t->tensor_name[i]);
        else if (axis && tensor) {
            add_turned(&nodes, &more, tensor, t->tensor_name[i], axis);
            snprintf(made[count++], sizeof *made, "%s", t->tensor_name[i]);
        }
    }
    model = changed(&t->model, &nodes, &more, made, count);
    file = open_bytes(reader, &model);
    x = file ? (ft__onnx *)file->own : NULL;
    if (!x) same = failed(t, ft_error_text(reader));
    else if (same) {
        ft__onnx_graph(file);
        if (x->refusal_count) same = failed(t, ft_error_text(reader));
        ft_clear_error(reader);
    }
    if (same && !fed)
        for (k = 0; k < t->outputs && same; ++k) same = constant_agrees(t, x, k);
    else if (same) {
        memset(&options, 0, sizeof options);
        options.weights.memory = model.at;
        options.weights.bytes = model.count;
        if (ft_load(m, "model.onnx", options) == FT_OK)
            for (k = 1; k < t->outputs; ++k) ft_keep(m, ft_find(m, x->values[x->outputs[k]].name));
        batch = feed(t, m, fed, axis);
        ft_forward(m, false);
        if (ft_error(m) || !batch) same = failed(t, ft_error_text(m));
        for (k = 0; k < t->outputs && same; ++k) same = node_agrees(t, m, x, k, batch);
    }
    if (file) ft_file_close(file);
    ft_destroy(reader);
    ft_destroy(m);
    free(more.at);
    free(nodes.at);
    free(model.at);
    return same;
}

/* The way in which a test passes; -1: in none. */
static int way_of(node_test *t)
{
    unsigned all = (1u << t->inputs) - 1, fed;
    int axis;
    if (all && passes(t, all, 0)) return FED;
    for (fed = 1; fed < all; ++fed)
        if (passes(t, fed, 0)) return SOME_FED;
    if (passes(t, 0, 0)) return COMPUTED;
    for (axis = 1; axis < FT__ONNX_RANK; ++axis)
        for (fed = 1; fed <= all; ++fed)
            if (passes(t, fed, axis)) return TURNED;
    return -1;
}

/* ---- All of them ---- */

static void read_reasons(const char *path)
{
    char line[300];
    FILE *file = fopen(path, "r");
    CHECK(file, "%s cannot be read", path);
    while (file && fgets(line, sizeof line, file) && reason_count < MOST_REASONS) {
        reason *r = &reasons[reason_count];
        line[strcspn(line, "\n")] = 0;
        if (*line != '#' && sscanf(line, "%79s %199[^\n]", r->pattern, r->why) == 2) reason_count += 1;
    }
    if (file) fclose(file);
}

static reason *reason_of(const char *name)
{
    int i;
    for (i = 0; i < reason_count; ++i)
        if (fnmatch(reasons[i].pattern, name, 0) == 0) return &reasons[i];
    return NULL;
}

static int by_name(const void *a, const void *b) { return strcmp((const char *)a, (const char *)b); }

int main(int count, char **words)
{
    static char names[MOST_TESTS][100];
    int all = 0, claimed = 0, named = 0, others = 0, passed[WAYS] = {0}, i;
    DIR *folder;
    struct dirent *entry;
    bool list = count > 3;  /* names all that do not run, and why */
    if (count < 3) return 2;
    folder = opendir(words[1]);
    read_reasons(words[2]);
    while (folder && (entry = readdir(folder)) != NULL && all < MOST_TESTS)
        if (entry->d_name[0] != '.') snprintf(names[all++], sizeof *names, "%.99s", entry->d_name);
    if (folder) closedir(folder);
    qsort(names, (size_t)all, sizeof *names, by_name);
    for (i = 0; i < all; ++i) {
        node_test t;
        reason *r = reason_of(names[i]);
        memset(&t, 0, sizeof t);
        snprintf(t.name, sizeof t.name, "%s", names[i]);
        read_test(&t, words[1]);
        if (t.claimed) {
            int way = way_of(&t);
            claimed += 1;
            others += t.other_types;
            if (way >= 0) passed[way] += 1;
            if (way < 0 && r) named += 1;
            if (way < 0 && r) r->used += 1;
            CHECK(way < 0 || !r, "%s passes: tests/onnx_nodes.txt names it", t.name);
            CHECK(way >= 0 || r, "%s: %s", t.name, t.error);
            if (list && way < 0) printf("%s: %s\n", t.name, t.error);
        } else if (list) printf("%s: not read: %s\n", t.name, t.unclaimed);
        free_test(&t);
    }
    for (i = 0; i < reason_count; ++i) CHECK(reasons[i].used, "no test is named %s", reasons[i].pattern);
    printf("ONNX's node tests: %d; of operators that are read: %d, %d of them in float32, int64 and bool alone; passed:"
           " %d (all inputs fed %d, some fed %d, turned %d, computed while reading %d); named with a reason: %d\n", all,
           claimed, claimed - others, passed[FED] + passed[SOME_FED] + passed[TURNED] + passed[COMPUTED], passed[FED],
           passed[SOME_FED], passed[TURNED], passed[COMPUTED], named);
    return check_done("test_onnx_nodes");
}
