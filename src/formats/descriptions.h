#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "formats/readers.h"
/* =============================================================================================
   [SECTION] formats/descriptions: Descriptions alone
   A file that is a network's description and nothing else: no tensors. What it may have:
   docs/networks.md; what reads it: formats/graphs.
   ============================================================================================= */

/* An object, after white space. */
static bool ft__description_recognises(const ft_file *file)
{
    uint64_t i = 0;
    while (i < file->size && file->bytes[i] && strchr(" \t\r\n", file->bytes[i])) ++i;
    return i < file->size && file->bytes[i] == '{';
}

static void ft__description_open(ft_file *file)
{
    file->letters = (char *)ft__allocate(file->context, (size_t)file->size + 1, 1);
    if (file->letters) memcpy(file->letters, file->bytes, (size_t)file->size);
}

static const char *ft__description_graph(ft_file *file) { return file->letters; }

static const ft__reader ft__reader_description = {
    "a network's description in JSON", false, ft__description_recognises,
    ft__description_open, ft__read_in_order, ft__description_graph, false};
