#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/taking.h"

/* =============================================================================================
   [SECTION] operators/tile: tile
   ============================================================================================= */
static const ft__field ft__tile_fields[] = {
    FT__INT(ft_tile_options, repeats), FT__NO_MORE_FIELDS};

static ft_status ft__tile_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                int input_count, ft_shape *output)
{
    const int *repeats = node->options.tile.repeats;
    char text[80];
    int d;
    *output = input[0].shape;
    for (d = 0; d < FINETUNE_MAX_RANK; ++d) {
        bool fixed = d > 0 && d < output->rank && output->size[d] > 0;
        if (repeats[d] < 0 || (repeats[d] > 1 && !fixed)
            || (repeats[d] > 1 && output->size[d] > INT_MAX / repeats[d]))
            return ft__fail(c, FT_SHAPE, "%s: dimension %d of %s cannot be repeated %d times: only"
                            " sizes after the batch that are known can be", node->name, d,
                            ft__shape_text(&input[0].shape, text), repeats[d]);
        if (repeats[d] > 1) output->size[d] *= repeats[d];
    }
    if (output->rank < 2)
        return ft__fail(c, FT_SHAPE, "%s: there is nothing to repeat in %s", node->name,
                        ft__shape_text(&input[0].shape, text));
    return ft__want_numbers(c, node, input, input_count);
}

static void ft__tile_places(const ft__call *call, int d, int size, int count, int *from)
{
    int i;
    (void)call;
    (void)d;
    for (i = 0; i < count; ++i) from[i] = i % size;
}

static void ft__tile_forward(const ft__call *call) { ft__take(call, ft__tile_places, 0, false); }
static void ft__tile_backward(const ft__call *call) { ft__take(call, ft__tile_places, 0, true); }

/* In files: `tile` | x | `repeats`, for each dimension: default 1 */
static const ft__row ft__row_tile = {
    FT__NAMED(tile), 1, 1, FT__ANY_LAYOUT,
    ft__tile_shape, ft__tile_forward, FT__BACKWARD(ft__tile_backward), ft__take_costs,
    ft__tile_fields, NULL};

ft_node ft_tile(ft_model *m, const char *name, ft_node x, ft_tile_options options)
{
    ft_node none = {0};
    if (!FT__HAS(m, ARITHMETIC)) return none;
    return ft__add_node(m, &ft__row_tile, name, &x, 1, &options, sizeof options);
}
