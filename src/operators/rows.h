#pragma once
#include "operators/table.h"

/* =============================================================================================
   [SECTION] operators/rows: The rows of the table
   ============================================================================================= */
#define FT__OP_ROW(name, low, high, reads, shape, forward, backward, costs, fields, device)       \
    {#name, low, high, reads, shape, forward, backward, costs, fields},
static const ft__row ft__rows[] = {FT__OPERATORS(FT__OP_ROW)};
