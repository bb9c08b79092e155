#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/storage.h"
#include "formats/readers.h"
#include "formats/tensor_files.h"
#include "data/sources.h"
#include "data/pixels.h"

/* =============================================================================================
   [SECTION] data/array_files: Arrays in files
   Samples and labels as arrays of a file of tensors, such as NumPy's .npz: pictures of 8 bits
   become samples of ft_pixels, numbers those of ft_arrays. The log names the arrays that are
   used; sizes that fit two layouts are refused, with the option that decides.
   ============================================================================================= */
typedef struct ft__array_file {
    ft__context *context;
    ft_file *file;
    ft_array_file_options options;
    ft_tensor_info x, y;
    int x_index, y_index;   /* y: -1 if there is none */
    int count, height, width, channels; /* of pictures */
    bool channels_last;
    void *kept[2];          /* memory of the data: samples, labels or targets */
} ft__array_file;

/* The array with the chosen name, or with the first of the usual ones; -1: there is none. */
static int ft__find_array(ft__array_file *a, const char *chosen, const char *field, bool samples)
{
    static const char *const usual[2][9] = {
        {"x", "X", "x_train", "X_train", "images", "data", "inputs", "features", "train_images"},
        {"y", "Y", "y_train", "labels", "label", "targets", "target", "Y_train", "train_labels"}};
    static const char *const scored[2][6] = {
        {"x_test", "X_test", "x_val", "X_val", "test_images", "x_valid"},
        {"y_test", "Y_test", "y_val", "Y_val", "test_labels", "y_valid"}};
    char names[200] = "";
    int found = -1, i;
    if (chosen) found = ft__find_tensor(a->file, chosen);
    for (i = 0; !chosen && a->options.evaluation && found < 0 && i < 6; ++i)
        found = ft__find_tensor(a->file, scored[!samples][i]);
    for (i = 0; !chosen && found < 0 && i < 9; ++i)
        found = ft__find_tensor(a->file, usual[!samples][i]);
    if (samples && !chosen && found < 0 && a->file->count == 1) found = 0;
    if (found >= 0 || (!samples && !chosen)) return found;
    for (i = 0; i < a->file->count && i < 8; ++i)
        ft__add_name(names, sizeof names, a->file->tensors[i].name);
    ft__fail(a->context, FT_INVALID, "%s: no array %s%.100s%s: ft_array_file_options.%s (--arrays)"
             " must name one of %s", a->file->path, chosen ? "is called \"" : "has a usual name",
             chosen ? chosen : "", chosen ? "\"" : "", field, names);
    return -1;
}

static bool ft__is_whole_type(ft_type type)
{
    return type == FT_I64 || type == FT_I32 || type == FT_I16 || type == FT_I8 || type == FT_U8
        || type == FT_U16 || type == FT_U32 || type == FT_U64 || type == FT_BOOL;
}

/* A number of channels that pictures have. */
static bool ft__is_channels(int size) { return size >= 1 && size <= 4; }

/* Whether the sizes of a sample are those of the input [C, H, W], or of it as [H, W, C]. */
static bool ft__samples_are(const ft_shape *x, const ft_shape *input, bool channels_last)
{
    int d, r = input->rank;
    if (channels_last && (r != 4 || x->rank != r)) return false;
    if (x->rank != r) /* grey pictures */
        return x->rank == 3 && r == 4 && input->size[1] == 1 && x->size[1] == input->size[2]
            && x->size[2] == input->size[3];
    for (d = 1; d < r; ++d) {
        int to = !channels_last ? d : d == 1 ? r - 1 : d - 1;
        if (x->size[to] != input->size[d]) return false;
    }
    return true;
}

/* Which layout it is of the two that are possible; an error if neither is, or if both are and no
   option decides. */
static void ft__choose_layout(ft__array_file *a, bool first, bool last, const char *wanted)
{
    char has[80];
    if (a->options.layout == FT_LAYOUT_NCHW) last = false;
    if (a->options.layout == FT_LAYOUT_NHWC) first = false;
    if (!first && !last)
        ft__fail(a->context, FT_SHAPE, "%s: %.100s is %s; %s is expected%s", a->file->path,
                 a->x.name, ft__shape_text(&a->x.shape, has), wanted,
                 a->options.layout ? " in the layout that was chosen" : "");
    else if (first && last)
        ft__fail(a->context, FT_INVALID, "%s: %.100s %s may be [N, C, H, W] or [N, H, W, C]:"
                 " ft_array_file_options.layout (--layout nchw or nhwc) must say which",
                 a->file->path, a->x.name, ft__shape_text(&a->x.shape, has));
    a->channels_last = last;
}

/* The sizes of pictures of 8 bits. */
static void ft__picture_sizes(ft__array_file *a)
{
    const int *size = a->x.shape.size;
    if (a->x.shape.rank == 3) {
        a->height = size[1];
        a->width = size[2];
        a->channels = 1;
        a->channels_last = true;
        return;
    }
    ft__choose_layout(a, a->x.shape.rank == 4 && ft__is_channels(size[1]),
                      a->x.shape.rank == 4 && ft__is_channels(size[3]),
                      "pictures [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 to 4 channels");
    a->height = size[a->channels_last ? 1 : 2];
    a->width = size[a->channels_last ? 2 : 3];
    a->channels = size[a->channels_last ? 3 : 1];
}

/* Copies samples [N, A, B], of elements of `width` bytes, as [N, B, A]. */
static void ft__turn_samples(const void *from, size_t count, size_t a, size_t b, size_t width,
                             void *to)
{
    size_t n;
    for (n = 0; n < count; ++n)
        ft__transpose_elements((const unsigned char *)from + n * a * b * width, a, b, width,
                               (unsigned char *)to + n * a * b * width);
}

/* The samples as float32, or as the bytes that they are; with `turn`, [N, rows, columns] becomes
   [N, columns, rows]. A block of memory, for the caller to release, also with an error. */
static void *ft__read_samples(ft__array_file *a, bool bytes, size_t rows, size_t columns, bool turn)
{
    ft__context *c = a->context;
    size_t count = ft__shape_count(&a->x.shape), width = bytes ? 1 : sizeof(float);
    void *values = ft__allocate(c, count + 1, width), *turned;
    if (values && bytes) ft_file_read(a->file, a->x_index, values, count);
    else if (values) ft_file_read_f32(a->file, a->x_index, (float *)values, count);
    if (!turn || !ft__ok(c)) return values;
    turned = ft__allocate(c, count + 1, width);
    if (turned) ft__turn_samples(values, (size_t)a->count, rows, columns, width, turned);
    ft__release(c, values);
    return turned;
}

/* Labels as ints; an error if they are of another type or shape. */
static int *ft__read_labels_of(ft__array_file *a)
{
    ft__context *c = a->context;
    int *labels, i;
    int64_t value;
    unsigned char piece[8];
    char has[80];
    if (a->y_index < 0) return NULL;
    if (!ft__is_whole_type(a->y.type))
        ft__fail(c, FT_INVALID, "%s: the labels %.100s are of type %s; whole numbers from 0 are"
                 " expected, one for each sample (this network learns classes)", a->file->path,
                 a->y.name, a->y.type_name);
    if (ft__shape_count(&a->y.shape) != (size_t)a->count)
        ft__fail(c, FT_SHAPE, "%s: the labels %.100s are %s, not one for each of %d samples",
                 a->file->path, a->y.name, ft__shape_text(&a->y.shape, has), a->count);
    labels = (int *)ft__allocate(c, (size_t)a->count, sizeof *labels);
    for (i = 0; ft__ok(c) && i < a->count; ++i) {
        int bits = 8 * ft__type_bytes[a->y.type];
        bool is_signed = a->y.type == FT_I8 || a->y.type == FT_I16 || a->y.type == FT_I32;
        a->file->reader->read(a->file, &a->y, (size_t)i, 1, piece);
        value = (int64_t)ft__little_endian(piece, bits / 8);
        if (is_signed && (value >> (bits - 1) & 1)) value -= (int64_t)1 << bits;
        if (value < 0 || value >= INT_MAX)
            ft__fail(c, FT_INVALID, "%s: %.100s[%d] is %lld; it must be at least 0",
                     a->file->path, a->y.name, i, (long long)value);
        labels[i] = (int)value;
    }
    return labels;
}

/* Targets [N] or [N, size], for a network that reads the input "target". */
static float *ft__read_targets_of(ft__array_file *a, int *size)
{
    size_t count = ft__shape_count(&a->y.shape);
    float *targets = (float *)ft__allocate(a->context, count + 1, sizeof *targets);
    if (a->y.shape.rank < 1 || a->y.shape.size[0] != a->count || count / (size_t)a->count > INT_MAX)
        ft__fail(a->context, FT_SHAPE, "%s: the targets %.100s are not one for each of %d samples",
                 a->file->path, a->y.name, a->count);
    if (!ft__ok(a->context)) return targets;
    *size = (int)(count / (size_t)a->count);
    ft_file_read_f32(a->file, a->y_index, targets, count);
    return targets;
}

static ft_data *ft__pictures_of(ft_model *m, ft__array_file *a)
{
    ft__context *c = a->context;
    ft_pixels_options o;
    ft_picture_size *sizes;
    const uint8_t **places;
    ft_data *data = NULL;
    size_t area, i;
    memset(&o, 0, sizeof o);
    ft__picture_sizes(a);
    if (!ft__ok(c)) return NULL;
    area = (size_t)a->height * (size_t)a->width;
    o.channels = a->channels;
    o.augmentation = a->options.augmentation;
    a->kept[0] = ft__read_samples(a, true, (size_t)a->channels, area,
                                  !a->channels_last && a->channels > 1);
    a->kept[1] = ft__read_labels_of(a);
    sizes = (ft_picture_size *)ft__allocate(c, (size_t)a->count, sizeof *sizes);
    places = (const uint8_t **)ft__allocate(c, (size_t)a->count, sizeof *places);
    for (i = 0; ft__ok(c) && i < (size_t)a->count; ++i) {
        sizes[i].width = a->width;
        sizes[i].height = a->height;
        places[i] = (const uint8_t *)a->kept[0] + i * area * (size_t)a->channels;
    }
    o.classes = a->options.classes;
    if (ft__ok(c)) data = ft_pixels(m, a->count, places, sizes, (const int *)a->kept[1], o);
    ft__release(c, (void *)(uintptr_t)places);
    ft__release(c, sizes);
    if (data)
        ft__log(c, "%s: %.100s: %d pictures of %d x %d pixels and %d channels%s", a->file->path,
                a->x.name, a->count, a->width, a->height, a->channels,
                a->x.shape.rank < 4 ? " [N, H, W]" : a->channels_last ? " [N, H, W, C]"
                : " [N, C, H, W]");
    return data;
}

static ft_data *ft__numbers_of(ft_model *m, ft__array_file *a, const ft__node *input)
{
    ft__context *c = a->context;
    ft_array_options o;
    ft_data *data;
    char wanted[80];
    size_t channels = (size_t)(input->shape.rank > 1 ? input->shape.size[1] : 1), area;
    bool target = a->y_index >= 0 && ft__find_node(m, "target").id;
    memset(&o, 0, sizeof o);
    ft__choose_layout(a, ft__samples_are(&a->x.shape, &input->shape, false),
                      ft__samples_are(&a->x.shape, &input->shape, true),
                      ft__shape_text(&input->shape, wanted));
    if (!ft__ok(c)) return NULL;
    area = ft__shape_count(&a->x.shape) / (size_t)a->count / (channels ? channels : 1);
    a->kept[0] = ft__read_samples(a, false, area, channels, a->channels_last && channels > 1);
    if (target) a->kept[1] = ft__read_targets_of(a, &o.target_size);
    else a->kept[1] = ft__read_labels_of(a);
    o.input = a->options.input;
    o.targets = target ? (const float *)a->kept[1] : NULL;
    o.classes = a->options.classes;
    if (!ft__ok(c)) return NULL;
    data = ft_arrays(m, a->count, (const float *)a->kept[0],
                     target ? NULL : (const int *)a->kept[1], o);
    if (data)
        ft__log(c, "%s: %.100s: %d samples of %s, used as they are%s%s", a->file->path, a->x.name,
                a->count, a->x.type_name, a->channels_last ? " [N, H, W, C]" : "",
                m->preprocessing.channels ? ", without the model's preprocessing" : "");
    return data;
}

/* An error if an option has no effect. */
static void ft__array_file_uses(ft__array_file *a, bool pictures)
{
    ft__field_use uses[] = {{"layout", false, false, "an array [N, C, H, W] or [N, H, W, C]"},
                            {"augmentation", false, false, "pictures of 8 bits"}};
    ft_augmentation none;
    memset(&none, 0, sizeof none);
    uses[0].is_set = a->options.layout != FT_LAYOUT_AUTO;
    uses[0].has_effect = a->x.shape.rank == 4;
    uses[1].is_set = memcmp(&none, &a->options.augmentation, sizeof none) != 0;
    uses[1].has_effect = pictures;
    ft__check_uses(a->context, "ft_array_file", uses, sizeof uses / sizeof uses[0]);
}

/* Reads the arrays of an opened file. */
static ft_data *ft__data_of_arrays(ft_model *m, ft__array_file *a)
{
    ft__context *c = a->context;
    const char *name = a->options.input ? a->options.input : "input";
    const ft__node *input = ft__get_node(m, ft__find_node(m, name));
    ft_data *data = NULL;
    bool pictures;
    int i;
    a->x_index = ft__find_array(a, a->options.samples, "samples", true);
    a->y_index = ft__ok(c) ? ft__find_array(a, a->options.labels, "labels", false) : -1;
    if (!ft__ok(c)) return NULL;
    a->x = a->file->tensors[a->x_index];
    if (a->y_index >= 0) a->y = a->file->tensors[a->y_index];
    a->count = a->x.shape.rank > 0 ? a->x.shape.size[0] : 0;
    pictures = a->x.type == FT_U8 && m->preprocessing.channels > 0;
    ft__array_file_uses(a, pictures);
    if (!input || input->type != FT_F32)
        ft__fail(c, FT_INVALID, "%s: the network has no input \"%s\" of numbers for these arrays"
                 " (ft_array_file_options.input)", a->file->path, name);
    else if (a->count < 1)
        ft__fail(c, FT_SHAPE, "%s: %.100s has no samples", a->file->path, a->x.name);
    else if (!ft__ok(c)) return NULL;
    else if (pictures) data = ft__pictures_of(m, a);
    else data = ft__numbers_of(m, a, input);
    if (data && a->y_index >= 0)
        ft__log(c, "%s: %.100s: %s", a->file->path, a->y.name, data->source.classes
                ? "their labels" : "their targets");
    for (i = 0; i < 2; ++i) {
        if (data) data->kept[i] = a->kept[i];
        else ft__release(c, a->kept[i]);
    }
    return data;
}

ft_data *ft_array_file(ft_model *m, const char *path, ft_array_file_options options)
{
    ft__array_file a;
    ft_weights_options how;
    ft_data *data;
    if (!ft__usable(m) || !FT__HAS(m, DATA)) return NULL;
    memset(&a, 0, sizeof a);
    memset(&how, 0, sizeof how);
    how.memory = options.memory;
    how.bytes = options.bytes;
    a.context = &m->context;
    a.options = options;
    a.file = ft_file_open(m, path, how);
    if (!a.file) return NULL;
    data = ft__data_of_arrays(m, &a);
    ft_file_close(a.file);
    return data;
}
