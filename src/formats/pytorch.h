#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "formats/safetensors.h"

/* =============================================================================================
   [SECTION] formats/pytorch: PyTorch's zip files
   torch.save writes a zip archive, nothing compressed, with the bytes of each storage in an entry
   "NAME/data/KEY" and a pickle "NAME/data.pkl" that says which tensor lies where in which storage.
   A pickle is a program; here a small machine runs the few opcodes that torch.save uses, and
   "calls" only rebuild a tensor or make a dictionary. Every other call gives an opaque value,
   which is passed over: nothing is executed.
   ============================================================================================= */
#ifndef FINETUNE_NO_PYTORCH
typedef struct ft__zip_entry { const char *name; size_t length; uint64_t offset, size; }
    ft__zip_entry;

typedef struct ft__zip { ft_file *file; ft__zip_entry *entries; int count; } ft__zip;

static ft_status ft__zip_fault(ft_file *file, const char *what, uint64_t offset)
{
    return ft__fail(file->context, FT_FORMAT, "%s: damaged PyTorch file: %s at offset %llu",
                    file->path, what, (unsigned long long)offset);
}

static uint64_t ft__zip_number(const ft_file *file, uint64_t offset, int bytes)
{
    return ft__little_endian(file->bytes + offset, bytes);
}

static bool ft__zip_has(const ft_file *file, uint64_t offset, uint64_t bytes)
{
    return offset <= file->size && bytes <= file->size - offset;
}

/* Where the central directory begins and how many entries it has; 64-bit values where the short
   ones are full. */
static bool ft__zip_directory(const ft_file *file, uint64_t *begin, uint64_t *count)
{
    uint64_t end = file->size < 22 ? 0 : file->size - 22, back, wide;
    for (back = 0; back <= end && back < 65536; ++back)
        if (ft__zip_number(file, end - back, 4) == 0x06054b50) break;
    if (file->size < 22 || back > end || back == 65536) return false;
    end -= back;
    *count = ft__zip_number(file, end + 10, 2);
    *begin = ft__zip_number(file, end + 16, 4);
    if (end < 20 || ft__zip_number(file, end - 20, 4) != 0x07064b50) return true;
    wide = ft__zip_number(file, end - 12, 8);
    if (!ft__zip_has(file, wide, 56) || ft__zip_number(file, wide, 4) != 0x06064b50) return false;
    *count = ft__zip_number(file, wide + 32, 8);
    *begin = ft__zip_number(file, wide + 48, 8);
    return true;
}

/* Sizes and offset that did not fit into 32 bits stand, in this order, in the extra field 1. */
static bool ft__zip_far(const ft_file *file, uint64_t at, uint64_t bytes, uint64_t *values[3])
{
    uint64_t end = at + bytes;
    int i;
    while (end - at >= 4) {
        uint64_t kind = ft__zip_number(file, at, 2), size = ft__zip_number(file, at + 2, 2);
        at += 4;
        if (size > end - at) return false;
        for (i = 0; kind == 1 && i < 3; ++i) {
            if (*values[i] != 0xffffffffu) continue;
            if (size < 8) return false;
            *values[i] = ft__zip_number(file, at, 8);
            at += 8;
            size -= 8;
        }
        at += size;
    }
    return true;
}

/* One entry of the directory at *at, which moves behind it. */
static ft_status ft__zip_read_entry(ft__zip *zip, uint64_t *at)
{
    ft_file *file = zip->file;
    ft__zip_entry *entry = &zip->entries[zip->count];
    uint64_t packed, name, extra, comment, local, *wide[3];
    if (!ft__zip_has(file, *at, 46) || ft__zip_number(file, *at, 4) != 0x02014b50)
        return ft__zip_fault(file, "no directory entry", *at);
    if (ft__zip_number(file, *at + 10, 2) != 0)
        return ft__fail(file->context, FT_UNSUPPORTED, "%s: a compressed entry at offset %llu;"
                        " torch.save writes none", file->path, (unsigned long long)*at);
    packed = ft__zip_number(file, *at + 20, 4);
    entry->size = ft__zip_number(file, *at + 24, 4);
    local = ft__zip_number(file, *at + 42, 4);
    name = ft__zip_number(file, *at + 28, 2);
    extra = ft__zip_number(file, *at + 30, 2);
    comment = ft__zip_number(file, *at + 32, 2);
    wide[0] = &entry->size;
    wide[1] = &packed;
    wide[2] = &local;
    if (!ft__zip_has(file, *at + 46, name + extra + comment)
        || !ft__zip_far(file, *at + 46 + name, extra, wide))
        return ft__zip_fault(file, "a directory entry that does not fit", *at);
    if (!ft__zip_has(file, local, 30) || ft__zip_number(file, local, 4) != 0x04034b50)
        return ft__zip_fault(file, "no local header", local);
    entry->offset = local + 30 + ft__zip_number(file, local + 26, 2)
        + ft__zip_number(file, local + 28, 2);
    if (!ft__zip_has(file, entry->offset, entry->size))
        return ft__zip_fault(file, "an entry longer than the file", local);
    entry->name = (const char *)file->bytes + *at + 46;
    entry->length = (size_t)name;
    zip->count += 1;
    *at += 46 + name + extra + comment;
    return FT_OK;
}

/* The entry whose name, behind the archive's own folder, is this. */
static const ft__zip_entry *ft__zip_find(const ft__zip *zip, const char *name, size_t length)
{
    int i;
    for (i = 0; i < zip->count; ++i) {
        const ft__zip_entry *e = &zip->entries[i];
        if (e->length > length && e->name[e->length - length - 1] == '/'
            && memcmp(e->name + e->length - length, name, length) == 0
            && !memchr(e->name, '/', e->length - length - 1)) return e;
    }
    return NULL;
}

/* ---- The pickle machine ---- */

typedef enum ft__pickle_kind {
    FT__P_OPAQUE, FT__P_MARK, FT__P_INT, FT__P_TEXT, FT__P_TUPLE, FT__P_DICT, FT__P_CALLABLE,
    FT__P_STORAGE, FT__P_TENSOR
} ft__pickle_kind;

typedef enum ft__callable { FT__CALL_DICT, FT__CALL_TENSOR, FT__CALL_PARAMETER, FT__CALL_STORAGE }
    ft__callable;

typedef struct ft__pickle_value {
    ft__pickle_kind kind;
    int64_t number;         /* of an int; a callable's ft__callable; a storage's first byte */
    int type;               /* of a storage or tensor: ft_type, or -1 */
    const char *text;       /* of a text */
    size_t length;          /* of a text; bytes of a storage */
    int first, last, count; /* of a tuple, list or dict: items; a dict's alternate key, value */
    int tensor;             /* of a tensor: its index among the tensors that were rebuilt */
} ft__pickle_value;

typedef struct ft__pickle_item { int value, next; } ft__pickle_item;

typedef struct ft__pickle {
    ft_file *file;
    ft__context *context;
    const ft__zip *zip;
    uint64_t at, end;       /* in the file */
    ft__pile values, items, stack, memo, tensors;
} ft__pickle;

static ft__pickle_value *ft__pickle_at(const ft__pickle *p, int value)
{
    return (ft__pickle_value *)p->values.at + value;
}

static ft_status ft__pickle_fault(ft__pickle *p, const char *what)
{
    return ft__zip_fault(p->file, what, p->at);
}

/* Pushes a new value; NULL with an error when there is no memory. */
static ft__pickle_value *ft__pickle_push(ft__pickle *p, ft__pickle_kind kind)
{
    ft__pickle_value *value = (ft__pickle_value *)ft__pile_add(p->context, &p->values);
    int *top = (int *)ft__pile_add(p->context, &p->stack);
    if (!value || !top) return NULL;
    memset(value, 0, sizeof *value);
    value->kind = kind;
    value->first = value->last = -1;
    *top = (int)p->values.count - 1;
    return value;
}

static int ft__pickle_pop(ft__pickle *p)
{
    if (p->stack.count == 0) {
        ft__pickle_fault(p, "a pickle that takes from an empty stack");
        return -1;
    }
    return ((int *)p->stack.at)[--p->stack.count];
}

static void ft__pickle_append(ft__pickle *p, int container, int value)
{
    ft__pickle_item *item = (ft__pickle_item *)ft__pile_add(p->context, &p->items);
    ft__pickle_value *v = ft__pickle_at(p, container);
    int index = (int)p->items.count - 1;
    if (!item) return;
    item->value = value;
    item->next = -1;
    if (v->last >= 0) ((ft__pickle_item *)p->items.at)[v->last].next = index;
    else v->first = index;
    v->last = index;
    v->count += 1;
}

/* The value of item `index` of a container; -1: there is none. */
static int ft__pickle_item_of(const ft__pickle *p, int container, int index)
{
    int item = ft__pickle_at(p, container)->first;
    while (item >= 0 && index-- > 0) item = ((ft__pickle_item *)p->items.at)[item].next;
    return item < 0 ? -1 : ((ft__pickle_item *)p->items.at)[item].value;
}

/* Everything above the last mark, in order, appended to `container`; the mark goes too. */
static void ft__pickle_from_mark(ft__pickle *p, int container, size_t *bottom)
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
    if (bottom) *bottom = mark - 1;
}

/* Makes a tuple or dict (lists are tuples here) of what lies above the mark. */
static void ft__pickle_collect(ft__pickle *p, ft__pickle_kind kind)
{
    ft__pickle_value *made = (ft__pickle_value *)ft__pile_add(p->context, &p->values);
    int index = (int)p->values.count - 1, *top;
    if (!made) return;
    memset(made, 0, sizeof *made);
    made->kind = kind;
    made->first = made->last = -1;
    ft__pickle_from_mark(p, index, NULL);
    top = (int *)ft__pile_add(p->context, &p->stack);
    if (top) *top = index;
}

/* Adds what lies above the mark (or the top `count` values) to the list or dict below. */
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
        memo = (int *)ft__pile_add(p->context, &p->memo);
        if (memo) *memo = -1;
    }
    if (!ft__ok(p->context)) return;
    if (p->stack.count == 0) ft__pickle_fault(p, "a pickle that remembers nothing");
    else ((int *)p->memo.at)[index] = ((int *)p->stack.at)[p->stack.count - 1];
}

static void ft__pickle_recall(ft__pickle *p, uint64_t index)
{
    int *top;
    if (index >= p->memo.count || ((int *)p->memo.at)[index] < 0) {
        ft__pickle_fault(p, "a pickle that recalls what it never had");
        return;
    }
    top = (int *)ft__pile_add(p->context, &p->stack);
    if (top) *top = ((int *)p->memo.at)[index];
}

static const struct { const char *name; int type; } ft__storages[] = {
    {"FloatStorage", FT_F32}, {"HalfStorage", FT_F16}, {"BFloat16Storage", FT_BF16},
    {"DoubleStorage", FT_F64}, {"LongStorage", FT_I64}, {"IntStorage", FT_I32},
    {"ShortStorage", FT_I16}, {"CharStorage", FT_I8}, {"ByteStorage", FT_U8},
    {"BoolStorage", FT_BOOL}};

static bool ft__text_is(const char *text, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(text, wanted, length) == 0;
}

/* A global by module and name: known ones become callables, all others opaque. */
static void ft__pickle_global(ft__pickle *p, const char *module, size_t module_length,
                              const char *name, size_t length)
{
    ft__pickle_value *v = ft__pickle_push(p, FT__P_OPAQUE);
    bool utils = ft__text_is(module, module_length, "torch._utils");
    size_t s;
    if (!v) return;
    v->type = -1;
    if (ft__text_is(module, module_length, "collections") && ft__text_is(name, length,
                                                                         "OrderedDict"))
        v->number = FT__CALL_DICT;
    else if (utils && ft__text_is(name, length, "_rebuild_tensor_v2")) v->number = FT__CALL_TENSOR;
    else if (utils && ft__text_is(name, length, "_rebuild_parameter"))
        v->number = FT__CALL_PARAMETER;
    else {
        if (!ft__text_is(module, module_length, "torch")) return;
        for (s = 0; s < sizeof ft__storages / sizeof ft__storages[0]; ++s)
            if (ft__text_is(name, length, ft__storages[s].name)) v->type = ft__storages[s].type;
        if (v->type < 0) return;
        v->number = FT__CALL_STORAGE;
    }
    v->kind = FT__P_CALLABLE;
}

/* ("storage", its class, key, place, count) stands for the bytes of an entry. */
static void ft__pickle_storage(ft__pickle *p)
{
    int tuple = ft__pickle_pop(p), kind, key;
    const ft__zip_entry *entry = NULL;
    char name[256];
    ft__pickle_value *v, *k, *t;
    if (tuple < 0) return;
    if (ft__pickle_at(p, tuple)->kind != FT__P_TUPLE || ft__pickle_at(p, tuple)->count != 5) {
        ft__pickle_fault(p, "an unknown kind of stored thing");
        return;
    }
    kind = ft__pickle_item_of(p, tuple, 1);
    key = ft__pickle_item_of(p, tuple, 2);
    if (!(v = ft__pickle_push(p, FT__P_STORAGE))) return;
    t = ft__pickle_at(p, kind);
    k = ft__pickle_at(p, key);
    v->type = t->kind == FT__P_CALLABLE && t->number == FT__CALL_STORAGE ? t->type : -1;
    if (k->kind == FT__P_TEXT && k->length < 200) {
        int length = snprintf(name, sizeof name, "data/%.*s", (int)k->length, k->text);
        entry = ft__zip_find(p->zip, name, (size_t)length);
    }
    if (!entry) {
        ft__pickle_fault(p, "a tensor whose data is not in the file");
        return;
    }
    v->number = (int64_t)entry->offset;
    v->length = (size_t)entry->size;
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

/* _rebuild_tensor_v2(storage, offset, size, stride, ...): false when that does not fit. */
static bool ft__pickle_tensor(ft__pickle *p, int arguments, ft_tensor_info *info)
{
    const ft__pickle_value *storage, *offset, *size, *stride;
    int64_t sizes[FINETUNE_MAX_RANK], strides[FINETUNE_MAX_RANK], last;
    size_t elements = 1, width;
    int d;
    if (ft__pickle_at(p, arguments)->count < 4) return false;
    storage = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 0));
    offset = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 1));
    size = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 2));
    stride = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 3));
    if (storage->kind != FT__P_STORAGE || storage->type < 0 || offset->kind != FT__P_INT
        || offset->number < 0 || size->kind != FT__P_TUPLE || stride->kind != FT__P_TUPLE
        || size->count != stride->count || size->count > FINETUNE_MAX_RANK) return false;
    memset(info, 0, sizeof *info);
    info->shape.rank = size->count;
    if (!ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 2), sizes, size->count)
        || !ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 3), strides, size->count))
        return false;
    width = (size_t)ft__type_bytes[storage->type];
    last = offset->number;
    for (d = 0; d < size->count; ++d) {
        if (sizes[d] > INT_MAX || !ft__multiply(elements, (size_t)sizes[d], &elements))
            return false;
        info->shape.size[d] = (int)sizes[d];
        info->stride[d] = strides[d];
    }
    if (elements > SIZE_MAX / 16 || last > (int64_t)storage->length) return false;
    for (d = 0; elements > 0 && d < size->count; ++d) {
        int64_t room = (int64_t)storage->length;
        if (sizes[d] == 1 || strides[d] == 0) continue;
        if (strides[d] > room || sizes[d] - 1 > room / strides[d]) return false;
        last += (sizes[d] - 1) * strides[d];
    }
    if (elements > 0 && (uint64_t)last >= storage->length / width) return false;
    info->type = (ft_type)storage->type;
    info->offset = (uint64_t)storage->number + (uint64_t)offset->number * width;
    info->bytes = (uint64_t)elements * width;
    return true;
}

static void ft__pickle_call(ft__pickle *p)
{
    int arguments = ft__pickle_pop(p), function = arguments < 0 ? -1 : ft__pickle_pop(p);
    ft__pickle_value *v, f;
    ft_tensor_info info, *added;
    if (function < 0) return;
    f = *ft__pickle_at(p, function);
    if (f.kind == FT__P_CALLABLE && f.number == FT__CALL_PARAMETER
        && ft__pickle_at(p, arguments)->count > 0) { /* the tensor that it wraps */
        int inner = ft__pickle_item_of(p, arguments, 0), *top;
        top = (int *)ft__pile_add(p->context, &p->stack);
        if (top) *top = inner;
        return;
    }
    v = ft__pickle_push(p, FT__P_OPAQUE);
    if (!v || f.kind != FT__P_CALLABLE) return;
    if (f.number == FT__CALL_DICT) v->kind = FT__P_DICT;
    if (f.number != FT__CALL_TENSOR) return;
    if (!ft__pickle_tensor(p, arguments, &info)) {
        ft__pickle_fault(p, "a tensor that does not fit its data");
        return;
    }
    added = (ft_tensor_info *)ft__pile_add(p->context, &p->tensors);
    if (!added) return;
    *added = info;
    v->kind = FT__P_TENSOR;
    v->tensor = (int)p->tensors.count - 1;
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
    v->text = (const char *)p->file->bytes + p->at;
    v->length = (size_t)length;
    p->at += length;
}

static void ft__pickle_int(ft__pickle *p, int bytes, bool is_signed)
{
    uint64_t bits = ft__pickle_read(p, bytes);
    ft__pickle_value *v = ft__pickle_push(p, FT__P_INT);
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
            ft__pickle_fault(p, "a name without an end");
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
    else ft__pickle_global(p, m.text, m.length, n.text, n.length);
}

static void ft__pickle_small_tuple(ft__pickle *p, int count)
{
    int items[3], i;
    for (i = count - 1; i >= 0; --i) items[i] = ft__pickle_pop(p);
    if (!ft__ok(p->context) || !ft__pickle_push(p, FT__P_TUPLE)) return;
    for (i = 0; i < count; ++i) ft__pickle_append(p, (int)p->values.count - 1, items[i]);
}

/* A long integer of so many bytes; those that do not fit into 64 bits are no sizes: opaque. */
static void ft__pickle_long(ft__pickle *p)
{
    uint64_t bytes = ft__pickle_read(p, 1);
    if (bytes <= 8) ft__pickle_int(p, (int)bytes, true);
    else if (bytes > p->end - p->at) ft__pickle_fault(p, "a number longer than the pickle");
    else {
        p->at += bytes;
        ft__pickle_push(p, FT__P_OPAQUE);
    }
}

/* One opcode; false at STOP or on an error. */
static bool ft__pickle_step(ft__pickle *p)
{
    unsigned opcode = (unsigned)ft__pickle_read(p, 1);
    switch (opcode) {
    case 0x80: ft__pickle_read(p, 1); break;                    /* PROTO */
    case 0x95: ft__pickle_read(p, 8); break;                    /* FRAME */
    case '(': ft__pickle_push(p, FT__P_MARK); break;
    case ')': case ']': case 0x8f: ft__pickle_push(p, FT__P_TUPLE); break; /* also list, set */
    case '}': ft__pickle_push(p, FT__P_DICT); break;
    case 't': case 'l': ft__pickle_collect(p, FT__P_TUPLE); break;
    case 'd': ft__pickle_collect(p, FT__P_DICT); break;
    case 0x85: case 0x86: case 0x87: ft__pickle_small_tuple(p, (int)opcode - 0x84); break;
    case 'a': ft__pickle_extend(p, 1); break;
    case 's': ft__pickle_extend(p, 2); break;
    case 'e': case 'u': case 0x90: ft__pickle_extend(p, 0); break;
    case 'X': case 'T': case 'B': ft__pickle_text(p, 4); break;
    case 0x8c: case 'U': case 'C': ft__pickle_text(p, 1); break;
    case 0x8d: case 0x8e: ft__pickle_text(p, 8); break;
    case 'q': ft__pickle_remember(p, ft__pickle_read(p, 1)); break;
    case 'r': ft__pickle_remember(p, ft__pickle_read(p, 4)); break;
    case 0x94: ft__pickle_remember(p, p->memo.count); break;
    case 'h': ft__pickle_recall(p, ft__pickle_read(p, 1)); break;
    case 'j': ft__pickle_recall(p, ft__pickle_read(p, 4)); break;
    case 'K': ft__pickle_int(p, 1, false); break;
    case 'M': ft__pickle_int(p, 2, false); break;
    case 'J': ft__pickle_int(p, 4, true); break;
    case 0x8a: ft__pickle_long(p); break;
    case 'G': ft__pickle_read(p, 8); ft__pickle_push(p, FT__P_OPAQUE); break;
    case 'N': case 0x88: case 0x89: ft__pickle_push(p, FT__P_OPAQUE); break;
    case 'c': ft__pickle_global_lines(p); break;
    case 0x93: ft__pickle_stack_global(p); break;
    case 'R': case 0x81: ft__pickle_call(p); break;
    case 'b': case '0': ft__pickle_pop(p); break;               /* an object's state is dropped */
    case '1': ft__pickle_from_mark(p, -1, NULL); break;
    case 'Q': ft__pickle_storage(p); break;
    case '.': return false;
    default: ft__pickle_fault(p, "an opcode that torch.save does not write");
    }
    return ft__ok(p->context);
}

/* ---- From the pickle's value to a list of tensors ---- */

static int ft__pickle_tensors_in(const ft__pickle *p, int dict)
{
    int item, count = 0;
    if (dict < 0 || ft__pickle_at(p, dict)->kind != FT__P_DICT) return 0;
    for (item = ft__pickle_at(p, dict)->first; item >= 0;
         item = ((ft__pickle_item *)p->items.at)[item].next) {
        const ft__pickle_item *i = (const ft__pickle_item *)p->items.at + item;
        if (ft__pickle_at(p, i->value)->kind == FT__P_TENSOR) count += 1;
    }
    return count;
}

/* The dict of tensors: the value itself, or, in a checkpoint, the one under a usual name, or the
   one with the most tensors. */
static int ft__pickle_state_dict(const ft__pickle *p, int root)
{
    static const char *const usual[] = {"state_dict", "model", "model_state_dict", "net",
                                        "weights", "params"};
    int best = root, most = ft__pickle_tensors_in(p, root), item;
    size_t u;
    if (most > 0 || ft__pickle_at(p, root)->kind != FT__P_DICT) return root;
    for (item = ft__pickle_at(p, root)->first; item >= 0;) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        const ft__pickle_value *name = ft__pickle_at(p, key->value);
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        for (u = 0; name->kind == FT__P_TEXT && u < sizeof usual / sizeof usual[0]; ++u)
            if (ft__text_is(name->text, name->length, usual[u])
                && ft__pickle_tensors_in(p, value->value) > 0) return value->value;
        if (ft__pickle_tensors_in(p, value->value) > most) {
            most = ft__pickle_tensors_in(p, value->value);
            best = value->value;
        }
        item = value->next;
    }
    return best;
}

static ft_status ft__pickle_list(ft__pickle *p, int dict)
{
    ft_file *file = p->file;
    int item, count = ft__pickle_tensors_in(p, dict);
    if (count == 0)
        return ft__fail(p->context, FT_FORMAT, "%s: holds no dictionary of tensors: save the"
                        " state_dict, not the module", file->path);
    file->names = (char **)ft__allocate(p->context, (size_t)count, sizeof *file->names);
    for (item = ft__pickle_at(p, dict)->first; file->names && item >= 0;) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        const ft__pickle_value *name = ft__pickle_at(p, key->value);
        ft_tensor_info *info;
        char text[512];
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        item = value->next;
        if (ft__pickle_at(p, value->value)->kind != FT__P_TENSOR) continue;
        if (name->kind != FT__P_TEXT || name->length >= sizeof text)
            return ft__pickle_fault(p, "a tensor without a usable name");
        snprintf(text, sizeof text, "%.*s", (int)name->length, name->text);
        info = ft__file_add(file);
        if (!info) break;
        *info = ((ft_tensor_info *)p->tensors.at)[ft__pickle_at(p, value->value)->tensor];
        info->name = file->names[file->count - 1] = ft__copy_text(p->context, text);
        if (!info->name) file->count -= 1;
    }
    return p->context->status;
}

/* torch.nn.DataParallel puts "module." before every name. */
static void ft__strip_module(ft_file *file)
{
    int i;
    for (i = 0; i < file->count; ++i)
        if (strncmp(file->tensors[i].name, "module.", 7) != 0) return;
    for (i = 0; i < file->count; ++i) file->tensors[i].name += 7;
}

static void ft__pickle_run(ft__pickle *p)
{
    ft__context *c = p->context;
    p->values.size = sizeof(ft__pickle_value);
    p->items.size = sizeof(ft__pickle_item);
    p->stack.size = p->memo.size = sizeof(int);
    p->tensors.size = sizeof(ft_tensor_info);
    while (ft__pickle_step(p)) {}
    if (ft__ok(c)) {
        int root = ft__pickle_pop(p);
        if (root >= 0) ft__pickle_list(p, ft__pickle_state_dict(p, root));
    }
    if (ft__ok(c)) ft__strip_module(p->file);
    ft__release(c, p->tensors.at);
    ft__release(c, p->memo.at);
    ft__release(c, p->stack.at);
    ft__release(c, p->items.at);
    ft__release(c, p->values.at);
}

static ft_status ft__pytorch_read(ft_file *file)
{
    ft__context *c = file->context;
    const ft__zip_entry *pickle, *order;
    uint64_t at = 0, count = 0, i;
    ft__pickle p;
    ft__zip zip;
    memset(&zip, 0, sizeof zip);
    memset(&p, 0, sizeof p);
    zip.file = file;
    if (!ft__zip_directory(file, &at, &count) || count > file->size / 46)
        return ft__zip_fault(file, "no zip directory", file->size);
    zip.entries = (ft__zip_entry *)ft__allocate(c, (size_t)count + 1, sizeof *zip.entries);
    for (i = 0; ft__ok(c) && i < count; ++i) ft__zip_read_entry(&zip, &at);
    pickle = ft__zip_find(&zip, "data.pkl", 8);
    order = ft__zip_find(&zip, "byteorder", 9);
    if (ft__ok(c) && !pickle)
        ft__fail(c, FT_FORMAT, "%s: a zip file, but not one of torch.save: it has no data.pkl",
                 file->path);
    if (ft__ok(c) && order && !ft__text_is((const char *)file->bytes + order->offset,
                                           (size_t)order->size, "little"))
        ft__fail(c, FT_UNSUPPORTED, "%s: written on a big-endian machine", file->path);
    if (ft__ok(c)) {
        p.file = file;
        p.context = c;
        p.zip = &zip;
        p.at = pickle->offset;
        p.end = pickle->offset + pickle->size;
        ft__pickle_run(&p);
    }
    ft__release(c, zip.entries);
    return c->status;
}
#else
static ft_status ft__pytorch_read(ft_file *file)
{
    return ft__fail(file->context, FT_UNSUPPORTED, "%s: a file of PyTorch's: the reader was"
                    " left out of this build (FINETUNE_NO_PYTORCH)", file->path);
}
#endif
