#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "formats/safetensors.h"
#include "formats/numpy_writing.h"
#include "formats/keras_saving.h"

/* =============================================================================================
   [SECTION] formats/writers: The table of file writers
   The end of a path says in which format its file is written; safetensors if it is no other's.
   To add one: a row here, and in an earlier part a function that writes tensors and metadata, or
   fails and says what the format cannot hold.
   ============================================================================================= */
typedef enum ft__file_content {
    FT__HOLDS_TENSOR,       /* one: not for ft_save */
    FT__HOLDS_TENSORS,      /* any number, with metadata */
    FT__HOLDS_KERAS,        /* the same, as float32 alone, with constants in the description, and
                               only with Keras' config: see formats/keras_saving */
    FT__HOLDS_NODES         /* a network, not tensors alone: see formats/onnx_files_writing */
} ft__file_content;

typedef struct ft__writer {
    const char *end;        /* of the path */
    ft__file_content holds; /* what such a file holds */
    ft_status (*write)(ft__context *c, const char *path, const ft__write_tensor *tensors, int count,
                       const char *const *pairs, int pair_count); /* NULL: FT__HOLDS_NODES */
} ft__writer;

static const ft__writer ft__writers[] = {
#if FT__HAS_ONNX
    {".onnx", FT__HOLDS_NODES, NULL},
#endif
#if FT__HAS_NUMPY
    {".npz", FT__HOLDS_TENSORS, ft__npz_write}, {".npy", FT__HOLDS_TENSOR, ft__npy_write},
#endif
#if FT__HAS_KERAS && FT__HAS_SAVING
    {".h5", FT__HOLDS_KERAS, ft__keras_write}, {".hdf5", FT__HOLDS_KERAS, ft__keras_write},
    {".keras", FT__HOLDS_KERAS, ft__keras_write},
#endif
    {".safetensors", FT__HOLDS_TENSORS, ft__safetensors_write}};

enum { FT__WRITERS = sizeof ft__writers / sizeof ft__writers[0],
       FT__SAFETENSORS_WRITER = FT__WRITERS - 1 };

/* The row for a path, the last one if there is none. */
static const ft__writer *ft__writer_of(const char *path)
{
    size_t i = 0;
    while (i + 1 < FT__WRITERS && !ft__ends_with(path, ft__writers[i].end)) ++i;
    return &ft__writers[i];
}

const char *ft_other_format(const char *path)
{
    static const char *const formats[][2] = {
        {".pt", "PyTorch"}, {".pth", "PyTorch"}, {".bin", "PyTorch"}, {".ckpt", "PyTorch"},
        {".onnx", "ONNX"}, {".h5", "Keras"}, {".hdf5", "Keras"}, {".keras", "Keras"},
        {".pb", "TensorFlow"}, {".tflite", "TensorFlow Lite"}, {".gguf", "llama.cpp"},
        {".ggml", "llama.cpp"}, {".npz", "NumPy"}, {".npy", "NumPy"}, {".mlmodel", "Core ML"},
        {".pkl", "Python"}, {".zip", "ZIP"}};
    size_t i;
    if (path && ft__writer_of(path)->holds != FT__HOLDS_TENSOR
        && ft__ends_with(path, ft__writer_of(path)->end)) return NULL;
    for (i = 0; path && i < sizeof formats / sizeof formats[0]; ++i)
        if (ft__ends_with(path, formats[i][0])) return formats[i][1];
    return NULL;
}

/* Whether a file of this name, with these options, can be written; `models`: for a whole model. */
static FT__UNUSED ft_status ft__check_written(ft__context *c, const char *path,
                                              const ft_save_options *o, bool models)
{
    const ft__writer *writer = ft__writer_of(path);
    bool other = ft_other_format(path) && (models || !ft__ends_with(path, writer->end));
    if (other)
        return ft__fail(c, FT_UNSUPPORTED, "%s: this is the name of a %s file, which cannot be"
                        " written: name it .safetensors", path, ft_other_format(path));
    if (writer->holds == FT__HOLDS_KERAS && (o->weights_only || o->type != FT_F32))
        return ft__fail(c, FT_INVALID, "%s: %s has no effect here: files of Keras are written in"
                        " float32, with weights alone if the name ends in .weights.h5", path,
                        o->weights_only ? "weights_only" : "type");
    if (o->type != FT_F32 && o->type != FT_F16 && o->type != FT_BF16)
        return ft__fail(c, FT_INVALID, "%s: the type of saved weights must be FT_F32, FT_F16 or"
                        " FT_BF16", path);
    if (o->widen && o->type != FT_F32)
        return ft__fail(c, FT_INVALID, "%s: widen has no effect here: it is for the type FT_F32",
                        path);
    if ((o->with_probabilities || o->with_preprocessing)
        && (!models || o->weights_only || writer->holds != FT__HOLDS_NODES))
        return ft__fail(c, FT_INVALID, "%s: with_probabilities and with_preprocessing have no"
                        " effect here: they are for a network in an .onnx file", path);
    if (writer->holds == FT__HOLDS_NODES && (!models || o->weights_only))
        return ft__fail(c, FT_UNSUPPORTED, "%s: an ONNX file holds a network, not tensors alone:"
                        " name it .safetensors", path);
    return c->status;
}

/* ---- The tensors of an opened file ---- */

/* The type in which a tensor of a file is written: only floating-point numbers change. */
static ft_type ft__converted_type(ft_type type, const ft_save_options *o)
{
    bool floating = type == FT_F32 || type == FT_F16 || type == FT_BF16 || type == FT_F64
        || type == FT_F8_E4M3 || type == FT_F8_E5M2;
    if (!floating || (o->type == FT_F32 && !o->widen)) return type;
    return o->type;
}

/* Lists the file's tensors as they are written; fails for one that cannot be. */
static ft_status ft__list_file(const ft_file *file, const char *path, const ft_save_options *o,
                               ft__write_tensor *to)
{
    int i;
    for (i = 0; i < file->count; ++i) {
        const ft_tensor_info *t = &file->tensors[i];
        if (t->type == FT_OTHER)
            return ft__fail(file->context, FT_UNSUPPORTED, "%s: tensor %.200s of %s has the type"
                            " %.60s, which cannot be written", path, t->name, file->path,
                            t->type_name);
        to[i].name = t->name;
        to[i].type = ft__converted_type(t->type, o);
        to[i].shape = t->shape;
        to[i].data.type = t->type;
        to[i].file = file;
        to[i].info = t;
    }
    return file->context->status;
}
