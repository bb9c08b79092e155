#pragma once
#include "nodes/nodes.h"
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/rows: The rows of the table
   ============================================================================================= */
/* Of the nodes that compute nothing. */
#define FT__LEAF_ROW(name)                                                                        \
    static const ft__row ft__row_##name = {FT__NAMED(name), 0, 0, 0, NULL, NULL, NULL, NULL,      \
                                           ft__no_fields, NULL};
FT__LEAVES(FT__LEAF_ROW)

#define FT__ROW_AT(name) &ft__row_##name,
static const ft__row *const ft__rows[] = {FT__LEAVES(FT__ROW_AT) FT__OPERATORS(FT__ROW_AT)};
