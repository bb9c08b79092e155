#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "formats/tensor_files.h"

/* =============================================================================================
   [SECTION] formats/position_tables: Positions of pictures of another size
   A vision transformer's table of positions, [1, tokens + side * side, features], is resized when
   it is loaded into a network for pictures of another size: the rows of the tokens stay, the others
   are pixels of a square picture. It is bicubic (Keys 1981), as where the name comes from: in
   transformers' "position_embeddings" interpolate with align_corners false, in torchvision's
   "pos_embedding" with align_corners true, in timm's "pos_embed" with antialias. A model that is
   saved has the table of its own size.
   ============================================================================================= */
typedef enum ft__grid_kind { FT__NO_GRID, FT__GRID, FT__GRID_CORNERS, FT__GRID_ANTIALIAS }
    ft__grid_kind;

static ft__grid_kind ft__grid_kind_of(const char *name)
{
    return ft__ends_with(name, "position_embeddings") ? FT__GRID
        : ft__ends_with(name, "pos_embedding") ? FT__GRID_CORNERS
        : ft__ends_with(name, "pos_embed") ? FT__GRID_ANTIALIAS : FT__NO_GRID;
}

/* The side of a square of so many rows; 0: there is none. */
static int ft__grid_side(int rows)
{
    int side = 1;
    while (side < 1 << 14 && side * side < rows) ++side;
    return side * side == rows ? side : 0;
}

/* How many rows of tokens two tables begin with: their other rows are both squares. -1: none. */
static int ft__grid_tokens(int rows, int other)
{
    int tokens;
    for (tokens = 0; tokens < 8 && tokens < rows && tokens < other; ++tokens)
        if (ft__grid_side(rows - tokens) && ft__grid_side(other - tokens)) return tokens;
    return -1;
}

/* Weights [to, from]: output i is the sum of weight[i][k] times input k. Outside the side its last
   pixel is repeated; with antialias the kernel is cut there, and the weights sum to 1. */
static void ft__grid_weights(ft__grid_kind kind, int from, int to, double *weight)
{
    double scale = kind != FT__GRID_CORNERS ? (double)from / to
        : to > 1 ? (double)(from - 1) / (to - 1) : 0;
    double stretch = kind == FT__GRID_ANTIALIAS && scale > 1 ? scale : 1;
    int reach = (int)(2 * stretch) + 2, i, k;
    for (i = 0; i < to; ++i, weight += from) {
        double at = kind == FT__GRID_CORNERS ? i * scale : (i + 0.5) * scale - 0.5, sum = 0;
        int middle = (int)floor(at);
        for (k = 0; k < from; ++k) weight[k] = 0;
        for (k = middle - reach; k <= middle + reach; ++k) {
            double w = ft__cubic((k - at) / stretch, stretch > 1 || kind == FT__GRID_ANTIALIAS
                                                         ? -0.5 : -0.75);
            if (kind == FT__GRID_ANTIALIAS && (k < 0 || k >= from)) continue;
            weight[k < 0 ? 0 : k >= from ? from - 1 : k] += w;
            sum += w;
        }
        for (k = 0; k < from; ++k) weight[k] /= sum;
    }
}

/* to [side, side, features] from table [from_side, from_side, features] */
static void ft__grid_resize(const double *weight, const float *table, int from_side, float *to,
                            int side, size_t features)
{
    int y, x, i, k;
    size_t f;
    for (y = 0; y < side; ++y)
        for (x = 0; x < side; ++x, to += features)
            for (f = 0; f < features; ++f) {
                double sum = 0;
                for (i = 0; i < from_side; ++i) {
                    double row = 0, across = weight[y * from_side + i];
                    for (k = 0; k < from_side && across != 0; ++k) {
                        double w = weight[x * from_side + k];
                        if (w != 0)
                            row += w * (double)table[(size_t)(i * from_side + k) * features + f];
                    }
                    sum += across * row;
                }
                to[f] = (float)sum;
            }
}

/* Whether a tensor of the file is the table of a node's positions, of another size. */
static bool ft__is_other_grid(const ft_tensor_info *t, const ft__node *node)
{
    const int *has = t->shape.size, *wants = node->shape.size;
    return ft__grid_kind_of(node->name) != FT__NO_GRID && t->shape.rank == 3
        && node->shape.rank == 3 && has[0] == 1 && wants[0] == 1 && has[2] == wants[2]
        && t->bytes > 0 && ft__grid_tokens(has[1], wants[1]) >= 0;
}

/* Reads a table of another size, and resizes it into the node's own memory. */
static ft_status ft__load_other_grid(ft_file *file, int index, ft__node *node)
{
    ft__context *c = file->context;
    const ft_tensor_info *t = &file->tensors[index];
    int rows = t->shape.size[1], tokens = ft__grid_tokens(rows, node->shape.size[1]);
    int from = ft__grid_side(rows - tokens), to = ft__grid_side(node->shape.size[1] - tokens);
    size_t features = (size_t)t->shape.size[2], kept = (size_t)tokens * features;
    size_t count = (size_t)rows * features;
    float *table = (float *)ft__allocate(c, count, sizeof *table);
    double *weight = (double *)ft__allocate(c, (size_t)from * (size_t)to, sizeof *weight);
    if (table && weight && ft_file_read_f32(file, index, table, count) == FT_OK) {
        memcpy(node->value, table, kept * sizeof *table);
        ft__grid_weights(ft__grid_kind_of(node->name), from, to, weight);
        ft__grid_resize(weight, table + kept, from, node->value + kept, to, features);
        ft__log(c, "%s: %s: the positions of %d x %d patches are resized to %d x %d", file->path,
                node->name, from, from, to, to);
    }
    ft__release(c, weight);
    ft__release(c, table);
    return c->status;
}
