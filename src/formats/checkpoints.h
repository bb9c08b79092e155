#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/sorting.h"
#include "formats/readers.h"
#include "formats/zip.h"
#include "formats/pytorch.h"

/* =============================================================================================
   [SECTION] formats/checkpoints: PyTorch's checkpoints
   A file of torch.save holds a state_dict, or a dictionary that has one beside an epoch, an
   optimiser and numbers, and sometimes a second one of averaged weights. Before PyTorch 1.6 it was
   not a zip file but five pickles (a magic number, a version, the machine, the object, the keys of
   its storages), then each storage: its number of elements, and the elements.
   ============================================================================================= */
#if FT__HAS_PYTORCH
enum { FT__MOST_CANDIDATES = 32 };

/* A dictionary that holds tensors. */
typedef struct ft__weight_set {
    char name[80];          /* its keys from the file's object on, joined by dots; "": the object */
    int dict, depth, tensors;
    bool averaged;          /* judging by its name */
} ft__weight_set;

typedef struct ft__weight_sets { ft__weight_set all[FT__MOST_CANDIDATES]; int count; }
    ft__weight_sets;

static int ft__pickle_tensors_in(const ft__pickle *p, int dict)
{
    int item = ft__pickle_at(p, dict)->first, count = 0;
    while (item >= 0) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        count += ft__pickle_at(p, value->value)->kind == FT__P_TENSOR;
        item = value->next;
    }
    return count;
}

/* "ema" as a word of a name, "averaged", "swa", "shadow". */
static bool ft__name_is_averaged(const char *name)
{
    static const char *const words[] = {"ema", "swa", "averaged", "shadow", "average"};
    size_t w, k;
    const char *at;
    for (at = name; *at; ++at) {
        if (at > name && at[-1] != '_' && at[-1] != '.' && at[-1] != '-') continue;
        for (w = 0; w < sizeof words / sizeof words[0]; ++w) {
            for (k = 0; words[w][k] && (at[k] | 32) == words[w][k]; ++k) {}
            if (!words[w][k] && (!at[k] || at[k] == '_' || at[k] == '.' || at[k] == '-'))
                return true;
        }
    }
    return false;
}

/* Lists a dictionary: it may have tensors, or hold others that do. */
static void ft__candidate_add(ft__pickle *p, ft__weight_sets *list, int dict, int depth,
                              const char *inside, const char *key, int length)
{
    ft__pickle_value *v = ft__pickle_at(p, dict);
    ft__weight_set *c = &list->all[list->count];
    if (v->kind != FT__P_DICT || v->seen || list->count == FT__MOST_CANDIDATES) return;
    v->seen = true;
    c->dict = dict;
    c->depth = depth;
    c->tensors = ft__pickle_tensors_in(p, dict);
    snprintf(c->name, sizeof c->name, "%s%s%.*s", inside, *inside ? "." : "", length, key);
    c->averaged = ft__name_is_averaged(c->name);
    list->count += 1;
}

/* Lists the dictionaries of the file's object, itself first, down to three levels. */
static void ft__find_candidates(ft__pickle *p, int root, ft__weight_sets *list)
{
    int at;
    memset(list, 0, sizeof *list);
    ft__candidate_add(p, list, root, 0, "", "", 0);
    for (at = 0; at < list->count; ++at) {
        int item = ft__pickle_at(p, list->all[at].dict)->first;
        while (item >= 0 && list->all[at].depth < 3) {
            const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
            const ft__pickle_value *name = ft__pickle_at(p, key->value);
            const char *letters = ft__pickle_letters(p, name);
            if (key->next < 0) break;
            value = (const ft__pickle_item *)p->items.at + key->next;
            item = value->next;
            if (name->kind != FT__P_TEXT || name->length > 40
                || (name->length >= 5 && memcmp(letters, "optim", 5) == 0)) continue;
            ft__candidate_add(p, list, value->value, list->all[at].depth + 1, list->all[at].name,
                              letters, (int)name->length);
        }
    }
}

/* Returns the candidate with the first of the usual names of a state_dict; NULL: none. */
static const ft__weight_set *ft__usual_candidate(const ft__weight_sets *list)
{
    static const char *const usual[] = {"state_dict", "model_state_dict", "model", "net",
                                        "weights", "params", "model_state", "network", "module"};
    size_t u;
    int i;
    for (u = 0; u < sizeof usual / sizeof usual[0]; ++u)
        for (i = 1; i < list->count; ++i) {
            const char *dot = strrchr(list->all[i].name, '.');
            if (strcmp(dot ? dot + 1 : list->all[i].name, usual[u]) == 0 && !list->all[i].averaged
                && list->all[i].tensors > 0 && list->all[i].tensors >= list->all[0].tensors)
                return &list->all[i];
        }
    return NULL;
}

/* Chooses the weights: the candidate with a usual name, else the one with the most tensors,
   averaged ones only if there are no others. NULL: there are none. */
static const ft__weight_set *ft__best_candidate(const ft__weight_sets *list)
{
    const ft__weight_set *best = ft__usual_candidate(list);
    int averaged, i;
    for (averaged = 0; !best && averaged < 2; ++averaged)
        for (i = 0; i < list->count; ++i) {
            const ft__weight_set *c = &list->all[i];
            if (c->tensors > (best ? best->tensors : 0) && c->averaged == (averaged == 1)) best = c;
        }
    return best;
}

/* Lists other candidates that could be meant: those with at least half as many tensors. Tensors of
   the file's own object are then not weights, but a count and the state of random numbers. */
static int ft__list_candidates(const ft__weight_sets *list, const ft__weight_set *best,
                               bool averaged, char *text, size_t size)
{
    int i, count = 0;
    size_t at = 0;
    text[0] = 0;
    for (i = 1; i < list->count && at < size; ++i) {
        const ft__weight_set *c = &list->all[i];
        if (c == best || !c->tensors || 2 * c->tensors < best->tensors) continue;
        if (c->averaged && !averaged) continue;
        at += (size_t)snprintf(text + at, size - at, "%s%s (%d tensors)", count ? ", " : "",
                               c->name, c->tensors);
        count += 1;
    }
    return count;
}

/* Returns the candidate that was asked for, or the best; NULL with an error. */
static const ft__weight_set *ft__choose_candidate(ft__pickle *p, const ft__weight_sets *list)
{
    ft_file *file = p->file;
    const ft__weight_set *best = ft__best_candidate(list);
    const char *name = file->state_dict;
    char others[400];
    int i;
    for (i = 0; name && i < list->count; ++i)
        if (list->all[i].tensors > 0 && strcmp(list->all[i].name, name) == 0)
            return &list->all[i];
    if (!best)
        ft__fail(p->context, FT_FORMAT, "%s: has no dictionary of tensors: in PyTorch, save"
                 " model.state_dict(), not the model", file->path);
    else if (name) {
        ft__list_candidates(list, best, true, others, sizeof others);
        ft__fail(p->context, FT_INVALID, "%s: state_dict: the file has no weights under \"%.80s\";"
                 " it has %s (%d tensors)%s%s", file->path, name,
                 *best->name ? best->name : "weights at the top level", best->tensors,
                 *others ? ", " : "", others);
    } else if (!*best->name || best == ft__usual_candidate(list) || best->averaged
               || !ft__list_candidates(list, best, false, others, sizeof others)) {
        if (ft__list_candidates(list, best, true, others, sizeof others))
            ft__log(p->context, "%s: the weights of \"%s\" are loaded; the file also has %s: choose"
                    " another with the option state_dict (--state-dict)", file->path, best->name,
                    others);
        return best;
    } else
        ft__fail(p->context, FT_INVALID, "%s: has weights under several names: %s (%d tensors), %s:"
                 " choose with the option state_dict (--state-dict)", file->path, best->name,
                 best->tensors, others);
    return NULL;
}

/* ---- Tensors ---- */

/* Are the elements of a tensor inside its storage? Fills in the rest of *info. */
static bool ft__pickle_place(ft__pickle *p, const ft__pickled_tensor *t, ft_tensor_info *info)
{
    const ft__storage *s = (const ft__storage *)p->storages.at + t->storage;
    uint64_t width = (uint64_t)ft__type_bytes[t->type], stored = s->bytes / width;
    int64_t room = (int64_t)s->bytes, last = t->offset;
    size_t elements = 1;
    int d;
    if (t->offset > room || s->skipped < 0 || s->skipped > room) return false;
    last += s->skipped;
    info->offset = s->offset + (uint64_t)last * width;
    for (d = 0; d < t->rank; ++d)
        if (t->size[d] > INT_MAX || !ft__multiply(elements, (size_t)t->size[d], &elements))
            return false;
    if (elements > SIZE_MAX / 16) return false;
    for (d = 0; elements > 0 && d < t->rank; ++d) {
        if (t->size[d] == 1 || t->stride[d] == 0) continue;
        if (t->stride[d] > room || t->size[d] - 1 > room / t->stride[d]) return false;
        last += (t->size[d] - 1) * t->stride[d];
    }
    if (elements > 0 && (uint64_t)last >= stored) return false;
    info->bytes = (uint64_t)elements * width;
    /* A tensor that repeats its storage (stride 0) may be larger than it, within a limit. */
    if (elements > stored) p->repeated += info->bytes;
    return p->repeated <= p->file->size;
}

static ft_status ft__pickle_info(ft__pickle *p, const ft__pickled_tensor *t, const char *name,
                                 ft_tensor_info *info)
{
    int d;
    if (!info) return p->context->status;
    memset(info, 0, sizeof *info);
    info->name = name;
    info->type = (ft_type)t->type;
    info->type_name = t->type_name;
    info->shape.rank = t->rank;
    for (d = 0; d < t->rank; ++d) {
        info->shape.size[d] = t->size[d] > INT_MAX ? INT_MAX : (int)t->size[d];
        info->stride[d] = t->stride[d];
    }
    if (t->type == FT_OTHER) return p->context->status;
    if (!((const ft__storage *)p->storages.at)[t->storage].found)
        return ft__fail(p->context, FT_FORMAT, "%s: damaged PyTorch file: the data of tensor %.200s"
                        " is missing", p->file->path, name);
    if (!ft__pickle_place(p, t, info))
        return ft__fail(p->context, FT_FORMAT, "%s: damaged PyTorch file: tensor %.200s does not"
                        " fit its data", p->file->path, name);
    return p->context->status;
}

/* Lists the tensors of a dictionary in its order, with their names in one block. */
static ft_status ft__pickle_list(ft__pickle *p, const ft__weight_set *from)
{
    ft_file *file = p->file;
    int item = ft__pickle_at(p, from->dict)->first, pass;
    size_t letters = 0;
    if ((uint64_t)from->tensors * sizeof(ft_tensor_info) > file->size + ((uint64_t)16 << 20))
        return ft__pickle_fault(p, "a pickle with more tensors than its size allows");
    for (pass = 0; pass < 2; ++pass, item = ft__pickle_at(p, from->dict)->first) {
        if (pass && !(file->letters = (char *)ft__allocate(p->context, letters + 1, 1))) break;
        if (pass && !ft__file_reserve(file, from->tensors)) break;
        for (letters = 0; ft__ok(p->context) && item >= 0;) {
            const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
            const ft__pickle_value *name = ft__pickle_at(p, key->value), *v;
            if (key->next < 0) break;
            value = (const ft__pickle_item *)p->items.at + key->next;
            item = value->next;
            v = ft__pickle_at(p, value->value);
            if (v->kind != FT__P_TENSOR) continue;
            if (name->kind != FT__P_TEXT || name->length > 500)
                return ft__pickle_fault(p, "a tensor without a usable name");
            if (pass) {
                char *to = file->letters + letters;
                memcpy(to, ft__pickle_letters(p, name), name->length);
                ft__pickle_info(p, (ft__pickled_tensor *)p->tensors.at + v->number, to,
                                ft__file_add(file));
            }
            letters += name->length + 1;
        }
    }
    return p->context->status;
}

/* torch.nn.DataParallel puts "module." before every name, but not before swa_utils' counters. */
static void ft__strip_module(ft_file *file)
{
    int i;
    for (i = 0; i < file->count; ++i)
        if (strncmp(file->tensors[i].name, "module.", 7) != 0
            && strcmp(file->tensors[i].name, "n_averaged") != 0) return;
    for (i = 0; i < file->count; ++i)
        if (file->tensors[i].name[0] == 'm') file->tensors[i].name += 7;
}

/* Makes the list of tensors from the file's object. */
static ft_status ft__pickle_finish(ft__pickle *p, int root)
{
    ft__weight_sets candidates;
    const ft__weight_set *chosen;
    if (root < 0 || !ft__ok(p->context)) return p->context->status;
    ft__find_candidates(p, root, &candidates);
    chosen = ft__choose_candidate(p, &candidates);
    if (chosen) ft__pickle_list(p, chosen);
    if (ft__ok(p->context)) ft__strip_module(p->file);
    return ft__file_index(p->file);
}

/* ---- Zip files ---- */

static void ft__zip_storages(ft__pickle *p, const ft__zip *zip)
{
    size_t i;
    for (i = 0; i < p->storages.count; ++i) {
        ft__storage *s = (ft__storage *)p->storages.at + i;
        const ft__pickle_value *key = ft__pickle_at(p, s->key);
        const ft__zip_entry *entry = NULL;
        char name[256];
        if (key->length < 200) {
            int length = snprintf(name, sizeof name, "data/%.*s", (int)key->length,
                                  ft__pickle_letters(p, key));
            entry = ft__zip_find(zip, name, (size_t)length);
        }
        if (!entry || entry->method != FT__ZIP_STORED) continue;
        s->found = true;
        s->offset = entry->offset;
        s->bytes = entry->size;
    }
}

/* Archives of torch.jit.save have a folder "code/", those of torch.save do not. */
static ft_status ft__zip_check(const ft__zip *zip)
{
    ft_file *file = zip->file;
    ft__context *c = file->context;
    const ft__zip_entry *pickle = ft__zip_find(zip, "data.pkl", 8);
    const ft__zip_entry *order = ft__zip_find(zip, "byteorder", 9);
    int code = ft__zip_from(zip, "code/", 5);
    if (code < zip->count && zip->entries[zip->order[code]].length > 5
        && memcmp(zip->entries[zip->order[code]].name, "code/", 5) == 0)
        return ft__fail(c, FT_UNSUPPORTED, "%s: a TorchScript archive (torch.jit.save), which"
                        " contains a program: in PyTorch,"
                        " torch.save(torch.jit.load(path).state_dict(), \"weights.pth\") writes its"
                        " weights", file->path);
    if (!pickle)
        return ft__fail(c, FT_FORMAT, "%s: a zip file, but not written by torch.save: it has no"
                        " data.pkl" FT__NUMPY_LEFT_OUT, file->path);
    if (pickle->method != FT__ZIP_STORED)
        return ft__fail(c, FT_UNSUPPORTED, "%s: its data.pkl is compressed, which torch.save never"
                        " does: unpack the archive and pack it again without compression",
                        file->path);
    if (order && order->method != FT__ZIP_STORED) order = NULL; /* torch.save compresses nothing */
    if (order && !ft__text_is((const char *)file->bytes + order->offset, (size_t)order->size,
                              "little"))
        ft__fail(c, FT_UNSUPPORTED, "%s: was written on a big-endian machine, which is not"
                 " supported", file->path);
    return c->status;
}

static void ft__pytorch_open(ft_file *file)
{
    ft__context *c = file->context;
    ft__pickle p;
    ft__zip zip;
    if (ft__zip_open(&zip, file) == FT_OK) ft__zip_enter(&zip);
    if (ft__zip_sort(&zip) && ft__zip_check(&zip) == FT_OK) {
        const ft__zip_entry *pickle = ft__zip_find(&zip, "data.pkl", 8);
        int root;
        ft__pickle_begin(&p, file);
        p.at = pickle->offset;
        p.end = pickle->offset + pickle->size;
        root = ft__pickle_run(&p);
        if (ft__ok(c)) ft__zip_storages(&p, &zip);
        ft__pickle_finish(&p, root);
        ft__pickle_end(&p);
    }
    ft__zip_close(&zip);
}

/* ---- Files from before 1.6 ---- */

static bool ft__storage_less(const void *context, int a, int b)
{
    const ft__pickle *p = (const ft__pickle *)context;
    const ft__storage *storages = (const ft__storage *)p->storages.at;
    const ft__pickle_value *k = ft__pickle_at(p, storages[a].key);
    const ft__pickle_value *l = ft__pickle_at(p, storages[b].key);
    int order = ft__text_order(ft__pickle_letters(p, k), k->length, ft__pickle_letters(p, l),
                               l->length);
    return order < 0 || (order == 0 && a < b);
}

/* Notes where the storages of one key are; there may be several, since each tensor has its own.
   Returns the bytes of an element; 0: no tensor uses the key. */
static uint64_t ft__legacy_storage(ft__pickle *p, const int *order, const ft__pickle_value *key,
                                   uint64_t offset, uint64_t count)
{
    ft__storage *storages = (ft__storage *)p->storages.at;
    int low = 0, high = (int)p->storages.count;
    uint64_t width = 0;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const ft__pickle_value *k = ft__pickle_at(p, storages[order[middle]].key);
        if (ft__text_order(ft__pickle_letters(p, k), k->length, ft__pickle_letters(p, key),
                           key->length) < 0) low = middle + 1;
        else high = middle;
    }
    for (; low < (int)p->storages.count; ++low) {
        ft__storage *s = &storages[order[low]];
        const ft__pickle_value *k = ft__pickle_at(p, s->key);
        if (ft__text_order(ft__pickle_letters(p, k), k->length, ft__pickle_letters(p, key),
                           key->length) != 0 || s->found) break;
        if (width == 0) width = (uint64_t)s->width;
        s->found = true;
        s->offset = offset;
        s->bytes = count * width;
    }
    return width;
}

/* The storages follow the list of keys, in its order. */
static ft_status ft__legacy_storages(ft__pickle *p, int keys)
{
    ft__context *c = p->context;
    int *order, item;
    if (keys < 0 || !ft__ok(c)) return c->status;
    order = (int *)ft__allocate(c, p->storages.count + 1, sizeof *order);
    if (order) ft__sort_order(order, (int)p->storages.count, ft__storage_less, p);
    for (item = ft__pickle_at(p, keys)->first; ft__ok(c) && item >= 0;
         item = ((ft__pickle_item *)p->items.at)[item].next) {
        int value = ((ft__pickle_item *)p->items.at)[item].value;
        const ft__pickle_value *key = ft__pickle_at(p, value);
        uint64_t count = ft__pickle_read(p, 8), width;
        if (!ft__ok(c)) break;
        if (key->kind != FT__P_TEXT || count > p->file->size) {
            ft__pickle_fault(p, "a storage with a wrong size");
            break;
        }
        width = ft__legacy_storage(p, order, key, p->at, count);
        if (width == 0) ft__pickle_fault(p, "a storage of an unknown type");
        else if (count > (p->end - p->at) / width)
            ft__pickle_fault(p, "a storage longer than the file");
        else p->at += count * width;
    }
    ft__release(c, order);
    return c->status;
}

/* Was it written on a little-endian machine? `about` is a dictionary. */
static bool ft__legacy_is_little(const ft__pickle *p, int about)
{
    int item = ft__pickle_at(p, about)->first;
    while (item >= 0) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        const ft__pickle_value *name = ft__pickle_at(p, key->value);
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        if (name->kind == FT__P_TEXT
            && ft__text_is(ft__pickle_letters(p, name), name->length, "little_endian"))
            return value->value != FT__PICKLE_FALSE;
        item = value->next;
    }
    return true;
}

static void ft__pytorch_legacy_open(ft_file *file)
{
    ft__context *c = file->context;
    ft__pickle p;
    int version, about, root = -1, keys = -1;
    ft__pickle_begin(&p, file);
    p.end = file->size;
    ft__pickle_run(&p); /* the magic number */
    version = ft__pickle_run(&p);
    if (ft__ok(c) && (ft__pickle_at(&p, version)->kind != FT__P_INT
                      || ft__pickle_at(&p, version)->number != 1001))
        ft__pickle_fault(&p, "a version other than 1001 of the format before PyTorch 1.6");
    about = ft__ok(c) ? ft__pickle_run(&p) : -1;
    if (ft__ok(c) && !ft__legacy_is_little(&p, about))
        ft__fail(c, FT_UNSUPPORTED, "%s: was written on a big-endian machine, which is not"
                 " supported", file->path);
    if (ft__ok(c)) root = ft__pickle_run(&p);
    if (ft__ok(c)) keys = ft__pickle_run(&p);
    ft__legacy_storages(&p, keys);
    ft__pickle_finish(&p, root);
    ft__pickle_end(&p);
}
#else
static void ft__pytorch_open(ft_file *file)
{
    ft__fail(file->context, FT_UNSUPPORTED, "%s: PyTorch files are not supported by this"
             " build (" FT__WITHOUT(PYTORCH) ")" FT__NUMPY_LEFT_OUT, file->path);
}

static void ft__pytorch_legacy_open(ft_file *file) { ft__pytorch_open(file); }
#endif

/* ---- The rows ---- */
static bool ft__pytorch_recognises(const ft_file *file)
{
    return file->size > 4 && memcmp(file->bytes, "PK\3\4", 4) == 0;
}

/* The pickle of its magic number. */
static bool ft__pytorch_legacy_recognises(const ft_file *file)
{
    return file->size > 15
        && memcmp(file->bytes, "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", 15) == 0;
}

static const ft__reader ft__reader_pytorch = {
    "PyTorch", true, ft__pytorch_recognises, ft__pytorch_open, ft__read_strided, NULL, false};

static const ft__reader ft__reader_pytorch_legacy = {
    "PyTorch before 1.6", true, ft__pytorch_legacy_recognises,
    ft__pytorch_legacy_open, ft__read_strided, NULL, false};
