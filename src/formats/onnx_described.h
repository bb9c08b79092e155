#pragma once
#include "interface/types.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/random.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/protobuf.h"
#include "formats/onnx_file.h"
/* =============================================================================================
   [SECTION] formats/onnx_described: ONNX files with our own description
   metadata_props of a file that ft_save wrote hold, besides what prediction needs, the network's
   description as model files have it, so that what ONNX has no place for (losses, what is frozen,
   dropout) is not lost. It counts as long as the nodes are those that it was written with: another
   tool may have changed them.
   ============================================================================================= */
#if FT__HAS_ONNX
static const char ft__onnx_sum_key[] = "finetune.nodes"; /* the digest of the nodes, in order */

/* The same description's parts for other readers of the file. */
static const char *const ft__onnx_parts[] = {"classes", "preprocessing"};

static void ft__onnx_sum_text(uint64_t sum, char text[20])
{
    snprintf(text, 20, "%08lx%08lx", (unsigned long)(sum >> 32),
             (unsigned long)(sum & 0xffffffffu));
}

/* Whether an entry is one of those that follow from others in the file. */
static bool ft__onnx_is_part(const char *key)
{
    size_t i;
    for (i = 0; i < sizeof ft__onnx_parts / sizeof *ft__onnx_parts; ++i)
        if (strcmp(key, ft__onnx_parts[i]) == 0) return true;
    return strcmp(key, ft__onnx_sum_key) == 0;
}

/* The digest of the nodes of a GraphProto. */
static uint64_t ft__onnx_sum_nodes(ft__proto graph)
{
    uint64_t sum = 0;
    while (ft__proto_next(&graph))
        if (graph.field == 1)
            sum = ft__hash_bytes(sum, graph.file->bytes + graph.from, (size_t)graph.bytes);
    return sum;
}

/* A StringStringEntryProto. */
static ft__note ft__onnx_note(ft__proto p)
{
    ft__note note;
    note.key = note.text = "";
    while (ft__proto_next(&p)) {
        if (p.field == 1) note.key = ft__proto_text(&p);
        if (p.field == 2) note.text = ft__proto_text(&p);
    }
    return note;
}

/* Lists the metadata, and returns the description; NULL: there is none that still counts. */
static const char *ft__onnx_description(ft_file *file)
{
    ft__proto p = ft__proto_message(file, 0, file->size), graph = p;
    size_t count = ft__proto_count(p, 14, NULL);
    const char *text, *sum = "";
    char nodes[20] = "";
    int i, kept = 0;
    if (!ft__ok(file->context) || count == 0) return NULL;
    file->metadata = (ft__note *)ft__allocate(file->context, count, sizeof *file->metadata);
    while (file->metadata && ft__proto_next(&p)) {
        if (p.field == 7) graph = ft__proto_inside(&p);
        if (p.field == 14) file->metadata[file->metadata_count++] = ft__onnx_note(
            ft__proto_inside(&p));
    }
    text = ft_file_metadata(file, ft__graph_key);
    for (i = 0; text && i < file->metadata_count; ++i) {
        if (strcmp(file->metadata[i].key, ft__onnx_sum_key) == 0) sum = file->metadata[i].text;
        if (!ft__onnx_is_part(file->metadata[i].key)) file->metadata[kept++] = file->metadata[i];
    }
    if (!text || !ft__ok(file->context)) return NULL;
    file->metadata_count = kept;
    ft__onnx_sum_text(ft__onnx_sum_nodes(graph), nodes);
    if (strcmp(sum, nodes) == 0) return text;
    ft__log(file->context, "%s: its nodes were changed after it was written here: they say what the"
            " network is, not the description beside them", file->path);
    return NULL;
}
#endif
