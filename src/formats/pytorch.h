#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/arrays.h"
#include "formats/zip.h"

/* =============================================================================================
   [SECTION] formats/pytorch: PyTorch's zip files and pickles
   torch.save writes an uncompressed zip archive. Each storage's bytes are an entry "NAME/data/KEY";
   a pickle "NAME/data.pkl" says at which offset of which storage each tensor begins. A pickle is a
   program. This reader runs only the opcodes that torch.save uses, and its "calls" only rebuild a
   tensor or make a dictionary. Any other call gives an opaque value, which is skipped: nothing is
   executed. The memory for its values is limited by the file's size.
   ============================================================================================= */
#if FT__HAS_PYTORCH
/* ---- The pickle machine ---- */

typedef enum ft__pickle_kind {
    FT__P_OPAQUE, FT__P_MARK, FT__P_INT, FT__P_TEXT, FT__P_TUPLE, FT__P_DICT, FT__P_CALLABLE,
    FT__P_STORAGE, FT__P_TENSOR
} ft__pickle_kind;

typedef enum ft__callable {
    FT__CALL_DICT,
    FT__CALL_TENSOR,        /* (storage, offset, size, stride, ...) */
    FT__CALL_TYPED_TENSOR,  /* the same; the seventh argument is the type */
    FT__CALL_OTHER_TENSOR,  /* a tensor that is listed, but cannot be read */
    FT__CALL_FIRST,         /* returns its first argument: a parameter is its tensor */
    FT__CALL_CALL,          /* (function, class, arguments, ...) */
    FT__CALL_STORAGE, FT__CALL_TYPE /* never called, only named */
} ft__callable;

typedef struct ft__pickle_value {
    unsigned char kind;     /* ft__pickle_kind */
    signed char type;       /* of a callable, storage or tensor: ft_type; -1: none */
    bool seen;              /* by the search for dictionaries of tensors */
    int first, last, count; /* items of a tuple, list or dict; a dict's alternate key, value; count
                               of a storage class: bytes of an element */
    int64_t number;         /* an int's value; a callable's ft__callable; a text's place in the
                               file; a storage's or tensor's index among them */
    size_t length;          /* of a text */
} ft__pickle_value;

typedef struct ft__pickle_item { int value, next; } ft__pickle_item;

typedef struct ft__storage {
    int key;                /* a value that is a text */
    int type;               /* ft_type; FT_OTHER: of an unknown kind; -1: of bytes */
    int width;              /* bytes of an element; 0: unknown */
    bool found;             /* then also: */
    uint64_t offset, bytes;
    int64_t skipped;        /* elements before a view, in older files */
} ft__storage;

typedef struct ft__pickled_tensor { /* as the pickle describes it: unchecked */
    int storage;            /* -1: none */
    int type;               /* ft_type */
    const char *type_name;
    int rank;
    int64_t offset, size[FINETUNE_MAX_RANK], stride[FINETUNE_MAX_RANK];
} ft__pickled_tensor;

typedef struct ft__pickle {
    ft_file *file;
    ft__context *context;
    uint64_t at, end;       /* in the file */
    ft__growing values, items, stack, memo, storages, tensors;
    uint64_t repeated;      /* bytes of tensors that are larger than their storages */
} ft__pickle;

enum { /* values that exist from the start, so that they take no memory */
    FT__PICKLE_OPAQUE, FT__PICKLE_FALSE, FT__PICKLE_TRUE, FT__PICKLE_MARK, FT__PICKLE_EMPTY,
    FT__PICKLE_BYTE,                             /* the first of 256 ints */
    FT__PICKLE_CONSTANTS = FT__PICKLE_BYTE + 256
};

static ft__pickle_value *ft__pickle_at(const ft__pickle *p, int value)
{
    return (ft__pickle_value *)p->values.at + value;
}

static const char *ft__pickle_letters(const ft__pickle *p, const ft__pickle_value *text)
{
    return (const char *)p->file->bytes + text->number;
}

static ft_status ft__pickle_fault(ft__pickle *p, const char *what)
{
    return ft__fail(p->context, FT_FORMAT, "%s: damaged PyTorch file: %s at offset %llu",
                    p->file->path, what, (unsigned long long)p->at);
}

static ft__pickle_value *ft__pickle_new(ft__pickle *p, ft__pickle_kind kind)
{
    ft__pickle_value *value = (ft__pickle_value *)ft__growing_add(p->context, &p->values);
    if (!value) return NULL;
    memset(value, 0, sizeof *value);
    value->kind = (unsigned char)kind;
    value->type = -1;
    value->first = value->last = -1;
    return value;
}

static void ft__pickle_put(ft__pickle *p, int value)
{
    int *top = (int *)ft__growing_add(p->context, &p->stack);
    if (top) *top = value;
}

/* Pushes a new value; returns NULL with an error if there is no memory. */
static ft__pickle_value *ft__pickle_push(ft__pickle *p, ft__pickle_kind kind)
{
    if (!ft__pickle_new(p, kind)) return NULL;
    ft__pickle_put(p, (int)p->values.count - 1);
    return ft__ok(p->context) ? ft__pickle_at(p, (int)p->values.count - 1) : NULL;
}

static void ft__pickle_constants(ft__pickle *p)
{
    static const ft__pickle_kind kinds[] = {FT__P_OPAQUE, FT__P_OPAQUE, FT__P_OPAQUE, FT__P_MARK,
                                            FT__P_TUPLE};
    int i;
    for (i = 0; ft__ok(p->context) && i < FT__PICKLE_CONSTANTS; ++i) {
        ft__pickle_value *v = ft__pickle_new(p, i < FT__PICKLE_BYTE ? kinds[i] : FT__P_INT);
        if (v) v->number = i < FT__PICKLE_BYTE ? i == FT__PICKLE_TRUE : i - FT__PICKLE_BYTE;
    }
}

/* The values may take as much memory as the file is large, and 16 MiB more: no pickle of torch.save
   needs that, since its file holds the tensors too. */
static bool ft__pickle_fits(ft__pickle *p)
{
    uint64_t bytes = (uint64_t)p->values.count * sizeof(ft__pickle_value)
        + (uint64_t)p->items.count * sizeof(ft__pickle_item)
        + ((uint64_t)p->stack.count + p->memo.count) * sizeof(int)
        + (uint64_t)p->storages.count * sizeof(ft__storage)
        + (uint64_t)p->tensors.count * sizeof(ft__pickled_tensor);
    if (bytes > p->file->size + ((uint64_t)16 << 20) || p->values.count > INT_MAX / 2
        || p->items.count > INT_MAX / 2)
        ft__pickle_fault(p, "a pickle that makes more values than its size allows");
    return ft__ok(p->context);
}

static int ft__pickle_pop(ft__pickle *p)
{
    if (p->stack.count == 0) {
        ft__pickle_fault(p, "a pickle that reads from an empty stack");
        return -1;
    }
    return ((int *)p->stack.at)[--p->stack.count];
}

static void ft__pickle_append(ft__pickle *p, int container, int value)
{
    ft__pickle_item *item = (ft__pickle_item *)ft__growing_add(p->context, &p->items);
    ft__pickle_value *v = ft__pickle_at(p, container);
    int index = (int)p->items.count - 1;
    if (!item) return;
    if ((v->kind != FT__P_TUPLE && v->kind != FT__P_DICT) || container == FT__PICKLE_EMPTY) {
        p->items.count -= 1; /* items of other kinds of objects are dropped */
        return;
    }
    item->value = value;
    item->next = -1;
    if (v->last >= 0) ((ft__pickle_item *)p->items.at)[v->last].next = index;
    else v->first = index;
    v->last = index;
    v->count += 1;
}

/* Returns the value of item `index` of a container, or -1 if there is none. */
static int ft__pickle_item_of(const ft__pickle *p, int container, int index)
{
    int item = ft__pickle_at(p, container)->first;
    while (item >= 0 && index-- > 0) item = ((ft__pickle_item *)p->items.at)[item].next;
    return item < 0 ? -1 : ((ft__pickle_item *)p->items.at)[item].value;
}

/* Appends everything above the last mark to `container`, in order, and removes the mark. */
static void ft__pickle_from_mark(ft__pickle *p, int container)
{
    const int *stack = (const int *)p->stack.at;
    size_t mark = p->stack.count, i;
    while (mark > 0 && ft__pickle_at(p, stack[mark - 1])->kind != FT__P_MARK) --mark;
    if (mark == 0) {
        ft__pickle_fault(p, "a pickle without a mark");
        return;
    }
    for (i = mark; container >= 0 && ft__ok(p->context) && i < p->stack.count; ++i)
        ft__pickle_append(p, container, stack[i]);
    p->stack.count = mark - 1;
}

/* Makes a tuple or dict (lists are tuples here) of the values above the mark. */
static void ft__pickle_collect(ft__pickle *p, ft__pickle_kind kind)
{
    int index;
    if (!ft__pickle_new(p, kind)) return;
    index = (int)p->values.count - 1;
    ft__pickle_from_mark(p, index);
    ft__pickle_put(p, index);
}

/* Adds the values above the mark (or the top `count` values) to the list or dict below them. */
static void ft__pickle_extend(ft__pickle *p, int count)
{
    const int *stack = (const int *)p->stack.at;
    size_t mark = p->stack.count, i;
    int below;
    if (count > 0 && mark > (size_t)count) mark -= (size_t)count;
    else
        while (mark > 0 && ft__pickle_at(p, stack[mark - 1])->kind != FT__P_MARK) --mark;
    below = (int)mark - (count > 0 ? 1 : 2);
    if (below < 0) {
        ft__pickle_fault(p, "a pickle that adds to nothing");
        return;
    }
    for (i = mark; ft__ok(p->context) && i < p->stack.count; ++i)
        ft__pickle_append(p, stack[below], stack[i]);
    p->stack.count = (size_t)below + 1;
}

static void ft__pickle_remember(ft__pickle *p, uint64_t index)
{
    int *memo;
    if (index > 1u << 24 || index > p->file->size) {
        ft__pickle_fault(p, "a pickle that remembers too much");
        return;
    }
    while (ft__ok(p->context) && p->memo.count <= index) {
        memo = (int *)ft__growing_add(p->context, &p->memo);
        if (memo) *memo = -1;
    }
    if (!ft__ok(p->context)) return;
    if (p->stack.count == 0) ft__pickle_fault(p, "a pickle that remembers nothing");
    else ((int *)p->memo.at)[index] = ((int *)p->stack.at)[p->stack.count - 1];
}

static void ft__pickle_recall(ft__pickle *p, uint64_t index)
{
    if (index >= p->memo.count || ((int *)p->memo.at)[index] < 0)
        ft__pickle_fault(p, "a pickle that recalls what it never had");
    else ft__pickle_put(p, ((int *)p->memo.at)[index]);
}

typedef struct ft__torch_name { const char *name; int value, width; } ft__torch_name;

static const ft__torch_name ft__storages[] = { /* of the module torch, and of torch.storage */
    {"FloatStorage", FT_F32, 0}, {"HalfStorage", FT_F16, 0}, {"BFloat16Storage", FT_BF16, 0},
    {"DoubleStorage", FT_F64, 0}, {"LongStorage", FT_I64, 0}, {"IntStorage", FT_I32, 0},
    {"ShortStorage", FT_I16, 0}, {"CharStorage", FT_I8, 0}, {"ByteStorage", FT_U8, 0},
    {"BoolStorage", FT_BOOL, 0}, {"UntypedStorage", -1, 1}, {"ComplexFloatStorage", FT_OTHER, 8},
    {"ComplexDoubleStorage", FT_OTHER, 16}, {"QInt8Storage", FT_OTHER, 1},
    {"QUInt8Storage", FT_OTHER, 1},
    {"QInt32Storage", FT_OTHER, 4}, {"QUInt4x2Storage", FT_OTHER, 0},
    {"QUInt2x4Storage", FT_OTHER, 0},
    {NULL, 0, 0}};

static const ft__torch_name ft__torch_types[] = { /* of the module torch */
    {"float32", FT_F32, 0}, {"float16", FT_F16, 0}, {"bfloat16", FT_BF16, 0},
    {"float64", FT_F64, 0},
    {"int64", FT_I64, 0}, {"int32", FT_I32, 0}, {"int16", FT_I16, 0}, {"int8", FT_I8, 0},
    {"uint8", FT_U8, 0},
    {"bool", FT_BOOL, 0}, {"uint16", FT_U16, 0}, {"uint32", FT_U32, 0}, {"uint64", FT_U64, 0},
    {"float8_e4m3fn", FT_F8_E4M3, 0}, {"float8_e5m2", FT_F8_E5M2, 0},
    {"float8_e4m3fnuz", FT_OTHER, 0},
    {"float8_e5m2fnuz", FT_OTHER, 0}, {"float8_e8m0fnu", FT_OTHER, 0}, {"complex32", FT_OTHER, 0},
    {"complex64", FT_OTHER, 0}, {"complex128", FT_OTHER, 0}, {NULL, 0, 0}};

static const ft__torch_name ft__rebuilders[] = { /* of the module torch._utils */
    {"_rebuild_tensor", FT__CALL_TENSOR, 0}, {"_rebuild_tensor_v2", FT__CALL_TENSOR, 0},
    {"_rebuild_tensor_v3", FT__CALL_TYPED_TENSOR, 0}, {"_rebuild_parameter", FT__CALL_FIRST, 0},
    {"_rebuild_parameter_with_state", FT__CALL_FIRST, 0},
    {"_rebuild_qtensor", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_sparse_tensor", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_sparse_csr_tensor", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_nested_tensor", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_meta_tensor_no_storage", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_wrapper_subclass", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_device_tensor_from_numpy", FT__CALL_OTHER_TENSOR, 0},
    {"_rebuild_device_tensor_from_cpu_tensor", FT__CALL_FIRST, 0}, {NULL, 0, 0}};

static bool ft__text_is(const char *text, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(text, wanted, length) == 0;
}

static const ft__torch_name *ft__torch_named(const ft__torch_name *row, const char *name,
                                             size_t length)
{
    while (row->name && !ft__text_is(name, length, row->name)) ++row;
    return row->name ? row : NULL;
}

/* A global by module and name: known ones become callables, all others opaque. */
static void ft__pickle_global(ft__pickle *p, const char *module, size_t module_length,
                              const char *name, size_t length)
{
    bool torch = ft__text_is(module, module_length, "torch");
    const ft__torch_name *row = NULL;
    int call = -1, type = -1;
    ft__pickle_value *v;
    if (ft__text_is(module, module_length, "collections")
        && ft__text_is(name, length, "OrderedDict")) call = FT__CALL_DICT;
    if (ft__text_is(module, module_length, "torch._tensor")
        && ft__text_is(name, length, "_rebuild_from_type_v2")) call = FT__CALL_CALL;
    if (ft__text_is(module, module_length, "torch._utils")
        && (row = ft__torch_named(ft__rebuilders, name, length)) != NULL) call = row->value;
    if ((torch || ft__text_is(module, module_length, "torch.storage"))
        && (row = ft__torch_named(ft__storages, name, length)) != NULL) {
        call = FT__CALL_STORAGE;
        type = row->value;
    }
    if (torch && call < 0 && (row = ft__torch_named(ft__torch_types, name, length)) != NULL) {
        call = FT__CALL_TYPE;
        type = row->value;
    }
    if (call < 0) {
        ft__pickle_put(p, FT__PICKLE_OPAQUE);
        return;
    }
    if (!(v = ft__pickle_push(p, FT__P_CALLABLE))) return;
    v->number = call;
    v->type = (signed char)type;
    if (call == FT__CALL_STORAGE && row)
        v->count = row->width ? row->width : ft__type_bytes[row->value];
}

/* ("storage", its class, key, place, count) refers to the bytes of an entry. In older files there
   is a sixth item: None, or (key, offset, count) of a view into the storage. ("module", class, ...)
   is a class with its source. */
static void ft__pickle_storage(ft__pickle *p)
{
    int tuple = ft__pickle_pop(p), count, view;
    const ft__pickle_value *kind, *type;
    ft__pickle_value *v;
    ft__storage *made;
    if (tuple < 0) return;
    count = ft__pickle_at(p, tuple)->kind == FT__P_TUPLE ? ft__pickle_at(p, tuple)->count : 0;
    kind = count > 0 ? ft__pickle_at(p, ft__pickle_item_of(p, tuple, 0)) : NULL;
    if (kind && kind->kind == FT__P_TEXT
        && ft__text_is(ft__pickle_letters(p, kind), kind->length, "module")) {
        ft__pickle_put(p, FT__PICKLE_OPAQUE);
        return;
    }
    if (count < 5 || count > 6
        || ft__pickle_at(p, ft__pickle_item_of(p, tuple, 2))->kind != FT__P_TEXT) {
        ft__pickle_fault(p, "an unknown kind of stored object");
        return;
    }
    made = (ft__storage *)ft__growing_add(p->context, &p->storages);
    v = ft__pickle_push(p, FT__P_STORAGE);
    if (!made || !v) return;
    v->number = (int64_t)p->storages.count - 1;
    memset(made, 0, sizeof *made);
    type = ft__pickle_at(p, ft__pickle_item_of(p, tuple, 1));
    made->type = FT_OTHER;
    if (type->kind == FT__P_CALLABLE && type->number == FT__CALL_STORAGE) made->type = type->type;
    made->width = type->kind == FT__P_CALLABLE ? type->count : 0;
    made->key = ft__pickle_item_of(p, tuple, 2);
    view = count == 6 ? ft__pickle_item_of(p, tuple, 5) : FT__PICKLE_OPAQUE;
    if (ft__pickle_at(p, view)->kind == FT__P_TUPLE && ft__pickle_at(p, view)->count == 3)
        made->skipped = ft__pickle_at(p, ft__pickle_item_of(p, view, 1))->number;
}

static bool ft__pickle_sizes(const ft__pickle *p, int tuple, int64_t *to, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        const ft__pickle_value *v = ft__pickle_at(p, ft__pickle_item_of(p, tuple, i));
        if (v->kind != FT__P_INT || v->number < 0) return false;
        to[i] = v->number;
    }
    return true;
}

/* Reads (storage, offset, size, stride, ...); returns false if the arguments are not of that form.
   */
static bool ft__pickle_describe(const ft__pickle *p, int arguments, ft__pickled_tensor *t)
{
    const ft__pickle_value *storage, *offset, *size, *stride;
    int all = ft__pickle_at(p, arguments)->kind == FT__P_TUPLE
        ? ft__pickle_at(p, arguments)->count : 0;
    if (all < 4) return false;
    storage = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 0));
    offset = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 1));
    size = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 2));
    stride = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 3));
    if (storage->kind != FT__P_STORAGE || offset->kind != FT__P_INT || offset->number < 0
        || size->kind != FT__P_TUPLE || stride->kind != FT__P_TUPLE
        || size->count != stride->count || size->count > FINETUNE_MAX_RANK) return false;
    t->storage = (int)storage->number;
    t->type = ((ft__storage *)p->storages.at)[t->storage].type;
    t->offset = offset->number;
    t->rank = size->count;
    return ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 2), t->size, t->rank)
        && ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 3), t->stride, t->rank);
}

/* Keeps a tensor as the pickle describes it. It is checked only when it is needed: one that nobody
   needs may be of any kind. */
static void ft__pickle_tensor(ft__pickle *p, int call, int arguments)
{
    ft__pickled_tensor *t = (ft__pickled_tensor *)ft__growing_add(p->context, &p->tensors);
    ft__pickle_value *v;
    bool fits;
    if (!t) return;
    memset(t, 0, sizeof *t);
    t->storage = -1;
    fits = ft__pickle_describe(p, arguments, t);
    if (fits && call == FT__CALL_TYPED_TENSOR && ft__pickle_at(p, arguments)->count > 6) {
        const ft__pickle_value *type = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 6));
        t->type = FT_OTHER;
        if (type->kind == FT__P_CALLABLE && type->number == FT__CALL_TYPE) t->type = type->type;
    }
    if (!fits || t->type < 0 || call == FT__CALL_OTHER_TENSOR) t->type = FT_OTHER;
    if (!fits) t->storage = -1;
    t->type_name = t->type != FT_OTHER ? ft__type_names[t->type]
        : !fits ? "a sparse or other special tensor" : "quantized, complex or of another type";
    if ((v = ft__pickle_push(p, FT__P_TENSOR)) != NULL) v->number = (int64_t)p->tensors.count - 1;
}

/* OrderedDict() or, from Python 2, OrderedDict([[key, value], ...]). */
static void ft__pickle_dict(ft__pickle *p, int arguments)
{
    int pairs = arguments < 0 ? -1 : ft__pickle_item_of(p, arguments, 0), dict, item;
    if (!ft__pickle_push(p, FT__P_DICT)) return;
    dict = (int)p->values.count - 1;
    item = pairs < 0 || ft__pickle_at(p, pairs)->kind != FT__P_TUPLE
        ? -1 : ft__pickle_at(p, pairs)->first;
    for (; ft__ok(p->context) && item >= 0; item = ((ft__pickle_item *)p->items.at)[item].next) {
        int pair = ((ft__pickle_item *)p->items.at)[item].value;
        if (ft__pickle_at(p, pair)->kind != FT__P_TUPLE || ft__pickle_at(p, pair)->count != 2)
            continue;
        ft__pickle_append(p, dict, ft__pickle_item_of(p, pair, 0));
        ft__pickle_append(p, dict, ft__pickle_item_of(p, pair, 1));
    }
}

/* function(arguments) if the function is known here; else an opaque value. */
static void ft__pickle_apply(ft__pickle *p, int function, int arguments)
{
    int call = ft__pickle_at(p, function)->kind == FT__P_CALLABLE
        ? (int)ft__pickle_at(p, function)->number : -1;
    int count = ft__pickle_at(p, arguments)->kind == FT__P_TUPLE
        ? ft__pickle_at(p, arguments)->count : 0;
    if (call == FT__CALL_CALL && count >= 3) { /* only once: the inner call must be another */
        function = ft__pickle_item_of(p, arguments, 0);
        arguments = ft__pickle_item_of(p, arguments, 2);
        call = ft__pickle_at(p, function)->kind == FT__P_CALLABLE
            ? (int)ft__pickle_at(p, function)->number : -1;
        count = ft__pickle_at(p, arguments)->kind == FT__P_TUPLE
            ? ft__pickle_at(p, arguments)->count : 0;
    }
    if (call == FT__CALL_FIRST && count > 0)
        ft__pickle_put(p, ft__pickle_item_of(p, arguments, 0));
    else if (call == FT__CALL_DICT) ft__pickle_dict(p, count ? arguments : -1);
    else if (call == FT__CALL_TENSOR || call == FT__CALL_TYPED_TENSOR
             || call == FT__CALL_OTHER_TENSOR) ft__pickle_tensor(p, call, arguments);
    else ft__pickle_put(p, FT__PICKLE_OPAQUE);
}

static void ft__pickle_call(ft__pickle *p)
{
    int arguments = ft__pickle_pop(p), function = arguments < 0 ? -1 : ft__pickle_pop(p);
    if (function >= 0) ft__pickle_apply(p, function, arguments);
}

static uint64_t ft__pickle_read(ft__pickle *p, int bytes)
{
    uint64_t value;
    if (p->end - p->at < (uint64_t)bytes) {
        ft__pickle_fault(p, "a pickle that ends early");
        p->at = p->end;
        return 0;
    }
    value = ft__zip_number(p->file, p->at, bytes);
    p->at += (uint64_t)bytes;
    return value;
}

static void ft__pickle_text(ft__pickle *p, int length_bytes)
{
    uint64_t length = ft__pickle_read(p, length_bytes);
    ft__pickle_value *v;
    if (length > p->end - p->at) {
        ft__pickle_fault(p, "a text longer than the pickle");
        return;
    }
    if (!(v = ft__pickle_push(p, FT__P_TEXT))) return;
    v->number = (int64_t)p->at;
    v->length = (size_t)length;
    p->at += length;
}

static void ft__pickle_int(ft__pickle *p, int bytes, bool is_signed)
{
    uint64_t bits = ft__pickle_read(p, bytes);
    ft__pickle_value *v;
    if (bits < 256 && !(is_signed && bytes == 1 && bits > 127)) {
        ft__pickle_put(p, FT__PICKLE_BYTE + (int)bits);
        return;
    }
    v = ft__pickle_push(p, FT__P_INT);
    if (is_signed && bytes > 0 && bytes < 8 && (bits >> (8 * bytes - 1) & 1))
        bits |= ~(uint64_t)0 << (8 * bytes);
    if (v) v->number = (int64_t)bits;
}

/* "module\nname\n" */
static void ft__pickle_global_lines(ft__pickle *p)
{
    const char *line[2];
    size_t length[2];
    int i;
    for (i = 0; i < 2; ++i) {
        const unsigned char *start = p->file->bytes + p->at;
        const void *end = memchr(start, '\n', (size_t)(p->end - p->at));
        if (!end) {
            ft__pickle_fault(p, "a name that does not end");
            return;
        }
        line[i] = (const char *)start;
        length[i] = (size_t)((const unsigned char *)end - start);
        p->at += length[i] + 1;
    }
    ft__pickle_global(p, line[0], length[0], line[1], length[1]);
}

static void ft__pickle_stack_global(ft__pickle *p)
{
    int name = ft__pickle_pop(p), module = name < 0 ? -1 : ft__pickle_pop(p);
    ft__pickle_value n, m;
    if (module < 0) return;
    n = *ft__pickle_at(p, name);
    m = *ft__pickle_at(p, module);
    if (n.kind != FT__P_TEXT || m.kind != FT__P_TEXT) ft__pickle_fault(p, "a nameless global");
    else ft__pickle_global(p, ft__pickle_letters(p, &m), m.length, ft__pickle_letters(p, &n),
                           n.length);
}

static void ft__pickle_small_tuple(ft__pickle *p, int count)
{
    int items[3], i;
    for (i = count - 1; i >= 0; --i) items[i] = ft__pickle_pop(p);
    if (!ft__ok(p->context) || !ft__pickle_push(p, FT__P_TUPLE)) return;
    for (i = 0; i < count; ++i) ft__pickle_append(p, (int)p->values.count - 1, items[i]);
}

/* A long integer of a given number of bytes; one beyond 64 bits is not a size, so it is opaque. */
static void ft__pickle_long(ft__pickle *p, int length_bytes)
{
    uint64_t bytes = ft__pickle_read(p, length_bytes);
    if (bytes <= 8) ft__pickle_int(p, (int)bytes, true);
    else if (bytes > p->end - p->at) ft__pickle_fault(p, "a number longer than the pickle");
    else {
        p->at += bytes;
        ft__pickle_put(p, FT__PICKLE_OPAQUE);
    }
}

/* Runs one opcode; returns false at STOP or on an error. */
static bool ft__pickle_step(ft__pickle *p)
{
    unsigned opcode = (unsigned)ft__pickle_read(p, 1);
    switch (opcode) {
    case 0x80: ft__pickle_read(p, 1); break;                    /* PROTO */
    case 0x95: ft__pickle_read(p, 8); break;                    /* FRAME */
    case '(': ft__pickle_put(p, FT__PICKLE_MARK); break;
    case ')': ft__pickle_put(p, FT__PICKLE_EMPTY); break;
    case ']': case 0x8f: ft__pickle_push(p, FT__P_TUPLE); break; /* a list, a set */
    case '}': ft__pickle_push(p, FT__P_DICT); break;
    case 't': case 'l': case 0x91: ft__pickle_collect(p, FT__P_TUPLE); break;
    case 'd': ft__pickle_collect(p, FT__P_DICT); break;
    case 0x85: case 0x86: case 0x87: ft__pickle_small_tuple(p, (int)opcode - 0x84); break;
    case 'a': ft__pickle_extend(p, 1); break;
    case 's': ft__pickle_extend(p, 2); break;
    case 'e': case 'u': case 0x90: ft__pickle_extend(p, 0); break;
    case 'X': case 'T': case 'B': ft__pickle_text(p, 4); break;
    case 0x8c: case 'U': case 'C': ft__pickle_text(p, 1); break;
    case 0x8d: case 0x8e: case 0x96: ft__pickle_text(p, 8); break;
    case 'q': ft__pickle_remember(p, ft__pickle_read(p, 1)); break;
    case 'r': ft__pickle_remember(p, ft__pickle_read(p, 4)); break;
    case 0x94: ft__pickle_remember(p, p->memo.count); break;
    case 'h': ft__pickle_recall(p, ft__pickle_read(p, 1)); break;
    case 'j': ft__pickle_recall(p, ft__pickle_read(p, 4)); break;
    case 'K': ft__pickle_int(p, 1, false); break;
    case 'M': ft__pickle_int(p, 2, false); break;
    case 'J': ft__pickle_int(p, 4, true); break;
    case 0x8a: ft__pickle_long(p, 1); break;
    case 0x8b: ft__pickle_long(p, 4); break;
    case 'G': ft__pickle_read(p, 8); ft__pickle_put(p, FT__PICKLE_OPAQUE); break;
    case 'N': ft__pickle_put(p, FT__PICKLE_OPAQUE); break;
    case 0x88: ft__pickle_put(p, FT__PICKLE_TRUE); break;
    case 0x89: ft__pickle_put(p, FT__PICKLE_FALSE); break;
    case 'c': ft__pickle_global_lines(p); break;
    case 0x93: ft__pickle_stack_global(p); break;
    case 'R': case 0x81: ft__pickle_call(p); break;
    case 0x92: ft__pickle_pop(p); ft__pickle_call(p); break;    /* with named arguments */
    case 'b': case '0': ft__pickle_pop(p); break;               /* an object's state is dropped */
    case '1': ft__pickle_from_mark(p, -1); break;
    case 'Q': ft__pickle_storage(p); break;
    case '.': return false;
    default: ft__pickle_fault(p, "an opcode that torch.save does not write");
    }
    return ft__pickle_fits(p);
}

/* Runs the pickle at p->at to its end and returns its value; -1 with an error. */
static int ft__pickle_run(ft__pickle *p)
{
    p->stack.count = 0;
    p->memo.count = 0;
    while (ft__pickle_step(p)) {}
    return ft__ok(p->context) ? ft__pickle_pop(p) : -1;
}

static void ft__pickle_begin(ft__pickle *p, ft_file *file)
{
    memset(p, 0, sizeof *p);
    p->file = file;
    p->context = file->context;
    p->values.size = sizeof(ft__pickle_value);
    p->items.size = sizeof(ft__pickle_item);
    p->stack.size = p->memo.size = sizeof(int);
    p->storages.size = sizeof(ft__storage);
    p->tensors.size = sizeof(ft__pickled_tensor);
    ft__pickle_constants(p);
}

static void ft__pickle_end(ft__pickle *p)
{
    ft__context *c = p->context;
    ft__release(c, p->tensors.at);
    ft__release(c, p->storages.at);
    ft__release(c, p->memo.at);
    ft__release(c, p->stack.at);
    ft__release(c, p->items.at);
    ft__release(c, p->values.at);
}
#endif
