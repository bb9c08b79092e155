#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/threads.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"
#include "kernels/dropout.h"
#include "kernels/attention.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/step_pool.h"

/* =============================================================================================
   [SECTION] operators/attention: Attention
   Scaled dot-product attention (Vaswani et al. 2017), for each sample and head:
       S = scale q k^T,  P = softmax of each row of S,  y = P v
       dv = P^T dy,  dP = dy v^T,  dS = P (dP - mean),  dq = scale dS k,  dk = scale dS^T q
   mean is a row's sum of dy y, which is that of P dP. q [N, T, heads D], k [N, S, some D] and
   v [N, S, some E] -> y [N, T, heads E]: a step's heads lie side by side, as linear layers write
   and read them, and each head of k and v serves heads / some neighbouring ones of q. Packed, q, k
   and v are columns of one input [N, T, (heads + 2 some) D], which is read where it lies.

   After FlashAttention (Dao et al. 2022, Dao 2023): S is computed for a block of queries and a tile
   of keys at a time and never kept; a row's softmax goes from tile to tile. A text of up to
   FT__KEY_TILE keys has whole rows in one tile. Kept for backward is the logarithm of each row's
   sum, by which P is computed again. Tiles depend on nothing but the place of a key, and padded
   steps are left out: so the bits of a text's rows depend neither on padding nor, if causal, on
   later steps. Where a sample holds several documents, a query's first key is the first step of its
   own, and so is that of the first tile of a block of queries.
   ============================================================================================= */
static const ft__field ft__attention_fields[] = {
    FT__INT(ft_attention_options, heads), FT__INT(ft_attention_options, key_value_heads),
    FT__FLOAT(ft_attention_options, scale), FT__BOOL(ft_attention_options, causal),
    FT__BOOL(ft_attention_options, all_queries), FT__FLOAT(ft_attention_options, dropout),
    FT__NOT_KEPT(ft_attention_options, lengths)
    FT__NOT_KEPT(ft_attention_options, positions)
    FT__NO_MORE_FIELDS};

static int ft__heads_of(const ft_attention_options *o) { return o->heads ? o->heads : 1; }
static int ft__key_heads_of(const ft_attention_options *o)
{
    return o->key_value_heads ? o->key_value_heads : ft__heads_of(o);
}

/* Whether q, k and v are one input; lengths and positions may follow in both cases. */
static bool ft__is_packed(const ft__tensor *input, int input_count)
{
    return input_count < 3 || input[1].type == FT_I32;
}

/* Positions of steps in their documents, the last input; NULL: a sample is one document. */
static const ft__tensor *ft__attention_positions(const ft__tensor *input, int input_count)
{
    int at = ft__is_packed(input, input_count) ? 1 : 3;
    const ft__tensor *last = &input[input_count - 1];
    return input_count > at && last->type == FT_I32 && last->shape.rank == 2 ? last : NULL;
}

/* Lengths of the samples; NULL: all steps are real. */
static const ft__tensor *ft__attention_lengths(const ft__tensor *input, int input_count)
{
    int at = ft__is_packed(input, input_count) ? 1 : 3;
    bool positions = ft__attention_positions(input, input_count) != NULL;
    return input_count > at + positions ? &input[at] : NULL;
}

static ft_status ft__attention_options_fit(ft__context *c, const ft__node *node)
{
    const ft_attention_options *o = &node->options.attention;
    if (o->heads < 0 || o->key_value_heads < 0 || ft__heads_of(o) % ft__key_heads_of(o) != 0)
        return ft__fail(c, FT_INVALID, "%s: %d heads and %d key_value_heads: both must be above 0,"
                        " and the second must divide the first", node->name, o->heads,
                        o->key_value_heads);
    if (!ft__not_negative(o->scale))
        return ft__fail(c, FT_INVALID, "%s: scale is %g; it must be above 0, or 0 for the default",
                        node->name, (double)o->scale);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return ft__fail(c, FT_INVALID, "%s: dropout is %g; it must be from 0 to below 1",
                        node->name, (double)o->dropout);
    return c->status;
}

/* q, k and v as separate inputs. */
static ft_status ft__attention_inputs_fit(ft__context *c, const ft__node *node,
                                          const ft__tensor *input)
{
    const ft_attention_options *o = &node->options.attention;
    const ft_shape *q = &input[0].shape, *k = &input[1].shape, *v = &input[2].shape;
    int heads = ft__heads_of(o), some = ft__key_heads_of(o);
    char text[3][80];
    if (q->rank != 3 || k->rank != 3 || v->rank != 3 || q->size[0] != k->size[0]
        || q->size[0] != v->size[0] || k->size[1] != v->size[1] || q->size[2] < 1
        || v->size[2] < 1 || q->size[2] % heads != 0 || v->size[2] % some != 0
        || k->size[2] != q->size[2] / heads * some)
        return ft__fail(c, FT_SHAPE, "%s: q %s, k %s, v %s: with %d heads, %d of k and v, expected"
                        " [N, T, %d D], [N, S, %d D] and [N, S, %d E]", node->name,
                        ft__shape_text(q, text[0]), ft__shape_text(k, text[1]),
                        ft__shape_text(v, text[2]), heads, some, heads, some, some);
    return c->status;
}

static ft_status ft__attention_packed_fits(ft__context *c, const ft__node *node, const ft_shape *x)
{
    const ft_attention_options *o = &node->options.attention;
    int all = ft__heads_of(o) + 2 * ft__key_heads_of(o);
    char text[80];
    if (x->rank != 3 || x->size[2] < 1 || x->size[2] % all != 0)
        return ft__fail(c, FT_SHAPE, "%s: q, k and v in one input, %s: with %d heads, %d of k and"
                        " v, expected [N, T, %d D]", node->name, ft__shape_text(x, text),
                        ft__heads_of(o), ft__key_heads_of(o), all);
    return c->status;
}

static ft_status ft__attention_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_attention_options *o = &node->options.attention;
    bool packed = ft__is_packed(input, input_count);
    const ft_shape *q = &input[0].shape, *k = packed ? q : &input[1].shape;
    const ft__tensor *lengths = ft__attention_lengths(input, input_count);
    const ft__tensor *places = ft__attention_positions(input, input_count);
    const ft_shape *positions = places ? &places->shape : NULL;
    int heads, some;
    char text[3][80];
    *output = *q;
    if (ft__attention_options_fit(c, node) != FT_OK) return c->status;
    heads = ft__heads_of(o);
    some = ft__key_heads_of(o);
    if ((packed ? ft__attention_packed_fits(c, node, q)
                : ft__attention_inputs_fit(c, node, input)) != FT_OK) return c->status;
    if (lengths && (lengths->type != FT_I32 || lengths->shape.rank != 1
                    || lengths->shape.size[0] != q->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths must be I32 [N], not %s", node->name,
                        ft__shape_text(&lengths->shape, text[0]));
    if (lengths && !o->all_queries && q->size[1] != k->size[1])
        return ft__fail(c, FT_SHAPE, "%s: lengths of both q %s and k %s need the same number of"
                        " steps; all_queries makes them those of k and v only", node->name,
                        ft__shape_text(q, text[0]), ft__shape_text(k, text[1]));
    if (positions && (!o->causal || q->size[1] != k->size[1] || positions->size[0] != q->size[0]
                      || positions->size[1] != q->size[1]))
        return ft__fail(c, FT_SHAPE, "%s: positions %s must be I32 [N, L] as q %s and k %s, and"
                        " causal set", node->name, ft__shape_text(positions, text[0]),
                        ft__shape_text(q, text[1]), ft__shape_text(k, text[2]));
    output->size[2] = packed ? q->size[2] / (heads + 2 * some) * heads
                             : input[2].shape.size[2] / some * heads;
    return ft__want_numbers(c, node, input, packed ? 1 : 3);
}

#define FT__KEY_TILE ((size_t)512)      /* keys of a tile */
#define FT__QUERY_BLOCK ((size_t)128)   /* most queries of a block, ... */
#define FT__SCORES ((size_t)40960)      /* ... and scores of a block and a tile: 160 KiB, twice */

typedef struct ft__attention {
    const ft__call *call;
    const ft__tensor *part[3]; /* q, k and v; packed: all three are the first input, ... */
    size_t column[3];       /* ... each from this column on */
    const ft__tensor *lengths, *positions;
    size_t samples, queries, keys, heads, shared; /* shared: heads of q for each of k and v */
    size_t width, value_width;  /* D, E */
    float scale;
    float dropout;          /* of this run: 0 unless it trains */
    size_t blocks;          /* of queries, of keys, or 1: per head and index of the parallel loop */
    bool of_queries, of_keys; /* the gradients that this pass computes */
} ft__attention;

static ft__attention ft__attention_of(const ft__call *call)
{
    const ft_attention_options *o = &call->node->options.attention;
    bool packed = ft__is_packed(call->input, call->input_count);
    size_t some = (size_t)ft__key_heads_of(o);
    ft__attention a;
    int i;
    memset(&a, 0, sizeof a);
    a.call = call;
    for (i = 0; i < 3; ++i) a.part[i] = &call->input[packed ? 0 : i];
    a.lengths = ft__attention_lengths(call->input, call->input_count);
    a.positions = ft__attention_positions(call->input, call->input_count);
    a.samples = (size_t)call->input[0].shape.size[0];
    a.queries = (size_t)call->input[0].shape.size[1];
    a.keys = (size_t)a.part[1]->shape.size[1];
    a.heads = (size_t)ft__heads_of(o);
    a.shared = a.heads / some;
    a.width = (size_t)call->input[0].shape.size[2] / (packed ? a.heads + 2 * some : a.heads);
    a.value_width = (size_t)call->output.shape.size[2] / a.heads;
    a.column[1] = packed ? a.heads * a.width : 0;
    a.column[2] = packed ? a.column[1] + some * a.width : 0;
    a.scale = o->scale > 0 ? o->scale : (float)(1 / sqrt((double)a.width));
    a.dropout = call->training && !call->node->frozen ? o->dropout : 0;
    return a;
}

/* Numbers that a thread needs: scores and their gradients, the state of each row, and for the
   products. */
static size_t ft__attention_scratch(const ft__attention *a)
{
    size_t k = ft__max_size(ft__max_size(a->width, a->value_width), FT__QUERY_BLOCK);
    return 2 * FT__SCORES + 4 * FT__QUERY_BLOCK
        + ft__gemm_scratch(ft__max_size(k, a->keys < FT__KEY_TILE ? a->keys : FT__KEY_TILE));
}

/* Keys and values kept of steps before, packed as products want them. */
typedef struct ft__kept {   /* of a sample and a head of k and v, one after the other */
    size_t room, wide;      /* steps; columns of a panel */
    size_t keys, values;    /* numbers: panels of `wide` steps, each [D, wide]; panels of columns of
                               v, each [room, columns] */
} ft__kept;

static ft__kept ft__kept_of(const ft__attention *a)
{
    size_t wide = ft__tiles[a->call->context->simd].columns, rest = a->value_width % wide;
    ft__kept k;
    k.room = (size_t)a->call->room;
    k.wide = wide;
    k.keys = ft__pad_to(k.room, wide) * a->width;
    k.values = k.room * (a->value_width - rest + (rest == 0 ? 0 : rest <= wide / 2 ? wide / 2
                                                                                 : wide));
    return k;
}

static void ft__attention_costs(const ft__call *call, ft__costs *costs)
{
    ft__attention a = ft__attention_of(call);
    costs->saved = a.samples * a.heads * a.queries * sizeof(float);
    costs->workspace = (size_t)call->context->threads * ft__attention_scratch(&a) * sizeof(float);
    costs->multiply_adds = (uint64_t)(a.samples * a.heads * a.queries) * a.keys
        * (a.width + a.value_width);
    if (call->past) {
        ft__kept k = ft__kept_of(&a);
        costs->kept = a.samples * (a.heads / a.shared) * (k.keys + k.values) * sizeof(float);
    }
}

/* One head of one sample. */
typedef struct ft__attending {
    const ft__attention *a;
    size_t sample, head, queries, keys; /* the sample's own */
    size_t block;           /* queries of a block */
    float *scores, *slopes; /* [queries of a block, keys of a tile] */
    ft__score_row *rows;
    float *scratch;
} ft__attending;

static ft__attending ft__attending_of(const ft__attention *a, size_t sample, size_t head, int slot)
{
    const ft__call *call = a->call;
    ft__attending t;
    size_t most, blocks;
    t.a = a;
    t.sample = sample;
    t.head = head;
    t.keys = ft__steps_of(a->lengths, sample, a->keys);
    t.queries = call->node->options.attention.all_queries || !a->lengths ? a->queries : t.keys;
    most = t.keys < FT__KEY_TILE ? t.keys : FT__KEY_TILE;
    most = most > 0 && FT__SCORES / most < FT__QUERY_BLOCK ? FT__SCORES / most / 8 * 8
                                                           : FT__QUERY_BLOCK;
    blocks = (t.queries + most - 1) / most;
    t.block = blocks > 0 ? ft__pad_to((t.queries + blocks - 1) / blocks, 8) : 8;
    t.scores = call->workspace + (size_t)slot * ft__attention_scratch(a);
    t.slopes = t.scores + FT__SCORES;
    t.rows = (ft__score_row *)(void *)(t.slopes + FT__SCORES);
    t.scratch = t.slopes + FT__SCORES + 4 * FT__QUERY_BLOCK;
    return t;
}

/* The head's numbers at a step of q (0), k (1), v (2) or y (3), and the distance of steps. */
static size_t ft__head_at(const ft__attending *t, int which, size_t step, size_t *row)
{
    const ft__attention *a = t->a;
    const ft__tensor *x = which < 3 ? a->part[which] : &a->call->output;
    size_t head = which == 1 || which == 2 ? t->head / a->shared : t->head;
    *row = (size_t)x->shape.size[2];
    return (t->sample * (size_t)x->shape.size[1] + step) * *row
        + (which < 3 ? a->column[which] : 0) + head * (which < 2 ? a->width : a->value_width);
}

static ft__matrix ft__head_rows(const ft__attending *t, int which, size_t step, bool gradient)
{
    const ft__tensor *x = which < 3 ? t->a->part[which] : &t->a->call->output;
    size_t row, at = ft__head_at(t, which, step, &row);
    return ft__rows_of((gradient ? x->gradient : x->value) + at, row);
}

/* Keys that query number `query` sees: all, or if causal none after its own place, counted from the
   end if there are more keys than queries. */
static size_t ft__seen(const ft__attending *t, size_t query)
{
    if (!t->a->call->node->options.attention.causal) return t->keys;
    return query + 1 + t->keys < t->queries ? 0 : query + 1 + t->keys - t->queries < t->keys
        ? query + 1 + t->keys - t->queries : t->keys;
}

/* The first key that a query sees: that of its document. */
static size_t ft__first_seen(const ft__attending *t, size_t query)
{
    const ft__attention *a = t->a;
    int32_t place = a->positions ? ft__integers(a->positions)[t->sample * a->queries + query] : 0;
    return place >= 0 && (size_t)place <= query && a->positions ? query - (size_t)place : 0;
}

/* The lowest of those of queries [first, first + rows). */
static size_t ft__first_seen_by(const ft__attending *t, size_t first, size_t rows)
{
    size_t lowest = ft__first_seen(t, first), i;
    for (i = 1; t->a->positions && i < rows; ++i)
        lowest = ft__min_size(lowest, ft__first_seen(t, first + i));
    return lowest;
}

/* Of the tile's keys [from, from + count), how many are before the first that a query sees. */
static size_t ft__hidden_of(const ft__attending *t, size_t query, size_t from, size_t count)
{
    size_t first = ft__first_seen(t, query);
    return first <= from ? 0 : first - from < count ? first - from : count;
}

/* Of the tile's keys [from, from + count), those that a query sees, and those hidden before. */
static size_t ft__seen_of(const ft__attending *t, size_t query, size_t from, size_t count)
{
    size_t seen = ft__seen(t, query);
    return seen <= from ? 0 : seen - from < count ? seen - from : count;
}

/* out [m, n] (+)= a [m, k] b [k, n], on this thread. */
static void ft__head_product(const ft__attending *t, size_t m, size_t n, size_t k, ft__matrix a,
                             ft__matrix b, ft__matrix out, bool add)
{
    ft__product x;
    memset(&x, 0, sizeof x);
    x.context = t->a->call->context;
    x.m = m;
    x.n = n;
    x.k = k;
    x.a = a;
    x.b = b;
    x.out = (float *)(uintptr_t)out.at;
    x.stride = (size_t)out.row;
    x.accumulate = add;
    ft__gemm_piece(&x, 0, m, 0, n, t->scratch);
}

/* Scores of queries [first, first + rows) and keys [from, from + count). */
static void ft__head_scores(const ft__attending *t, size_t first, size_t rows, size_t from,
                            size_t count)
{
    ft__head_product(t, rows, count, t->a->width, ft__head_rows(t, 0, first, false),
                     ft__transposed(ft__head_rows(t, 1, from, false)),
                     ft__rows_of(t->scores, count), false);
}

/* Divides y's rows by their sums, and keeps the logarithms of these. A query without keys gives
   zeros. */
static void ft__attend_end(const ft__attending *t, size_t first, size_t rows)
{
    const ft__call *call = t->a->call;
    size_t row, at = ft__head_at(t, 3, first, &row), i, j;
    float *y = call->output.value + at;
    float *kept = (float *)call->saved
        + (t->sample * t->a->heads + t->head) * t->a->queries + first;
    for (i = 0; i < rows; ++i, y += row) {
        bool some = first + i < t->queries && ft__seen(t, first + i) > 0;
        kept[i] = some ? t->rows[i].largest + ft__ln(t->rows[i].sum) : 0;
        for (j = 0; j < t->a->value_width; ++j) y[j] = some ? y[j] / t->rows[i].sum : 0;
    }
}

/* ---- After steps that were run before: keys and values are kept, packed as products want them.
   The bits are those of all steps at once ---- */

/* What is kept of a sample's head number `head` of k and v. */
static float *ft__kept_at(const ft__attention *a, const ft__kept *k, size_t sample, size_t head)
{
    return a->call->kept + (sample * (a->heads / a->shared) + head) * (k->keys + k->values);
}

/* Keeps the keys and values of this run's steps, behind those before. */
static void ft__keep_steps(const ft__attending *t, const ft__kept *k)
{
    const ft__attention *a = t->a;
    const ft__tile_row *tile = &ft__tiles[a->call->context->simd];
    float *keys = ft__kept_at(a, k, t->sample, t->head / a->shared), *values = keys + k->keys;
    size_t step, i, width;
    for (step = 0; step < a->queries; ++step) {
        size_t at = (size_t)a->call->past[t->sample] + step;
        const float *key = ft__head_rows(t, 1, step, false).at;
        const float *value = ft__head_rows(t, 2, step, false).at;
        float *to = keys + at / k->wide * k->wide * a->width + at % k->wide;
        for (i = 0; i < a->width; ++i) to[i * k->wide] = key[i];
        for (i = 0; i < a->value_width; i += width) {
            width = ft__panel_width(tile, a->value_width, i);
            memcpy(values + i * k->room + at * width, value + i,
                   ft__min_size(width, a->value_width - i) * sizeof(float));
        }
    }
}

/* A block of up to a tile's rows of queries and a tile of keys. */
static void ft__attend_kept(const ft__attending *t, const ft__kept *k, size_t first, size_t rows,
                            size_t from, size_t count)
{
    const ft__attention *a = t->a;
    ft__context *c = a->call->context;
    const ft__tile_row *tile = &ft__tiles[c->simd];
    const float *keys = ft__kept_at(a, k, t->sample, t->head / a->shared), *row[FT__TILE_ROWS];
    const float *values = keys + k->keys;
    ft__matrix q = ft__head_rows(t, 0, first, false), y = ft__head_rows(t, 3, first, false);
    float *out = (float *)(uintptr_t)y.at;
    size_t stride = (size_t)y.row, i, j, width;
    for (i = 0; i < rows; ++i) row[i] = q.at + (ptrdiff_t)i * q.row;
    for (j = 0; j < count; j += k->wide)
        ft__gemm_tile(tile, rows, count - j, 1, a->width, row, 1, keys + (from + j) * a->width,
                      k->wide, keys, 0, t->scores + j, count, false);
    for (i = 0; i < rows; ++i) {
        float *s = t->scores + i * count;
        size_t seen = ft__seen_of(t, first + i, from, count);
        t->rows[i].shrink = 1;
        if (seen > 0) ft__attend[c->simd](s, seen, a->scale, &t->rows[i]);
        for (j = seen; j < count; ++j) s[j] = 0;
        for (j = 0; from > 0 && j < a->value_width; ++j) out[i * stride + j] *= t->rows[i].shrink;
        row[i] = s;
    }
    for (j = 0; j < a->value_width; j += width) {
        width = ft__panel_width(tile, a->value_width, j);
        ft__gemm_tile(tile, rows, a->value_width - j, 1, count, row, 1,
                      values + j * k->room + from * width, width, values, 0, out + j, stride,
                      from > 0);
    }
}

/* A head of k and v of a sample, and the heads of q that share it. */
static void ft__attend_after_slot(void *context, int slot)
{
    const ft__attention *a = (const ft__attention *)context;
    ft__context *c = a->call->context;
    ft__kept k = ft__kept_of(a);
    size_t some = a->heads / a->shared, most = ft__tiles[c->simd].rows, piece, shared, first, from;
    int share;
    FT__PIECES(piece, share, c, slot, a->samples * some) {
        size_t sample = piece / some, head = piece % some;
        for (shared = 0; shared < a->shared; ++shared) {
            ft__attending t = ft__attending_of(a, sample, head * a->shared + shared, slot);
            if (shared == 0) ft__keep_steps(&t, &k);
            t.keys = (size_t)a->call->past[sample] + a->queries;
            for (first = 0; first < t.queries; first += most) {
                size_t rows = ft__min_size(most, t.queries - first), i;
                size_t seen = ft__seen(&t, first + rows - 1);
                for (i = 0; i < rows; ++i) {
                    t.rows[i].largest = -3.40282347e38f;
                    t.rows[i].sum = 0;
                }
                for (from = 0; from < seen; from += FT__KEY_TILE)
                    ft__attend_kept(&t, &k, first, rows, from,
                                    ft__min_size(FT__KEY_TILE, seen - from));
                ft__attend_end(&t, first, rows);
            }
        }
    }
}

static void ft__attend_after(ft__attention *a)
{
    ft__parallel_slots(a->call->context, ft__attend_after_slot, a);
}

/* ---- Dropout of P ----
   With M the mask by 1 / (1 - dropout): y = (M P) v, dv = (M P)^T dy, dP = M (dy v^T). The mean of
   a row, its sum of P dP, still is that of dy y. M depends on the step's key and the place of a
   number in P, so backward makes it again. */
static void ft__drop_shares(const ft__attending *t, size_t query, size_t from, size_t count,
                            float *shares)
{
    const ft__attention *a = t->a;
    size_t at = ((t->sample * a->heads + t->head) * a->queries + query) * a->keys + from;
    if (a->dropout > 0)
        ft__drop[a->call->context->simd](shares, shares, count, a->call->random, at, a->dropout,
                                         false);
}

/* ---- Forward ---- */

/* The tile's part of y's rows, not yet divided by the sums. */
static void ft__attend_tile(const ft__attending *t, size_t first, size_t rows, size_t from,
                            size_t count, bool more)
{
    ft__context *c = t->a->call->context;
    ft__matrix y = ft__head_rows(t, 3, first, false);
    size_t i, j;
    ft__head_scores(t, first, rows, from, count);
    for (i = 0; i < rows; ++i) {
        float *s = t->scores + i * count;
        size_t seen = ft__seen_of(t, first + i, from, count);
        size_t hidden = ft__hidden_of(t, first + i, from, seen);
        t->rows[i].shrink = 1;
        if (seen > hidden)
            ft__attend[c->simd](s + hidden, seen - hidden, t->a->scale, &t->rows[i]);
        ft__drop_shares(t, first + i, from, seen, s);
        for (j = 0; j < hidden; ++j) s[j] = 0;
        for (j = seen; j < count; ++j) s[j] = 0;
        for (j = 0; more && j < t->a->value_width; ++j)
            ((float *)(uintptr_t)y.at)[i * (size_t)y.row + j] *= t->rows[i].shrink;
    }
    ft__head_product(t, rows, t->a->value_width, count, ft__rows_of(t->scores, count),
                     ft__head_rows(t, 2, from, false), y, more);
}

static void ft__attend_block(const ft__attending *t, size_t first, size_t rows)
{
    size_t start = ft__first_seen_by(t, first, rows), from, seen = ft__seen(t, first + rows - 1), i;
    for (i = 0; i < rows; ++i) {
        t->rows[i].largest = -3.40282347e38f;
        t->rows[i].sum = 0;
    }
    for (from = start; from < seen; from += FT__KEY_TILE)
        ft__attend_tile(t, first, rows, from, seen - from < FT__KEY_TILE ? seen - from
                                                                         : FT__KEY_TILE,
                        from > start);
    ft__attend_end(t, first, rows);
}

static void ft__attention_forward_slot(void *context, int slot)
{
    const ft__attention *a = (const ft__attention *)context;
    size_t pieces = a->samples * a->heads * a->blocks, piece, first;
    int share;
    FT__PIECES(piece, share, a->call->context, slot, pieces) {
        size_t head = piece / a->blocks;
        ft__attending t = ft__attending_of(a, head / a->heads, head % a->heads, slot);
        for (first = piece % a->blocks * t.block; first < t.queries; first += a->blocks * t.block)
            ft__attend_block(&t, first, t.queries - first < t.block ? t.queries - first : t.block);
        for (first = t.queries + piece % a->blocks; first < a->queries; first += a->blocks)
            ft__attend_end(&t, first, 1);
    }
}

/* Blocks of queries, for the parallel loop: a shorter text has fewer. */
static size_t ft__query_blocks(const ft__attention *a)
{
    return (a->queries + FT__QUERY_BLOCK - 1) / FT__QUERY_BLOCK;
}

static void ft__attention_forward(const ft__call *call)
{
    ft__attention a = ft__attention_of(call);
    if (call->past) {
        ft__attend_after(&a);
        return;
    }
    a.blocks = ft__query_blocks(&a);
    ft__parallel_slots(call->context, ft__attention_forward_slot, &a);
}

/* ---- Backward ---- */

/* Sets steps [from, from + count) of the gradient of q, k or v to zero, if it is fresh. */
static void ft__clear_steps(const ft__attending *t, int which, size_t from, size_t count)
{
    const ft__tensor *x = t->a->part[which];
    size_t row, at = ft__head_at(t, which, from, &row), i;
    size_t width = which < 2 ? t->a->width : t->a->value_width;
    for (i = 0; x->gradient && x->fresh && i < count; ++i)
        memset(x->gradient + at + i * row, 0, width * sizeof(float));
}

/* P and scale dS of a block and a tile, zeros where a query does not see a key. */
static void ft__attend_slopes(const ft__attending *t, size_t first, size_t rows, size_t from,
                              size_t count)
{
    const ft__call *call = t->a->call;
    const float *kept = (const float *)call->saved
        + (t->sample * t->a->heads + t->head) * t->a->queries + first;
    size_t row, at = ft__head_at(t, 3, first, &row), i, j;
    ft__head_scores(t, first, rows, from, count);
    ft__head_product(t, rows, count, t->a->value_width, ft__head_rows(t, 3, first, true),
                     ft__transposed(ft__head_rows(t, 2, from, false)),
                     ft__rows_of(t->slopes, count), false);
    for (i = 0; i < rows; ++i, at += row) {
        float *s = t->scores + i * count, *ds = t->slopes + i * count;
        size_t seen = ft__seen_of(t, first + i, from, count);
        size_t hidden = ft__hidden_of(t, first + i, from, seen);
        for (j = 0; j < hidden; ++j) s[j] = ds[j] = 0;
        ft__drop_shares(t, first + i, from, seen, ds);
        ft__attend_back[call->context->simd](s + hidden, ds + hidden, seen - hidden, t->a->scale,
                                             kept[i],
                                             call->output.gradient + at, call->output.value + at,
                                             t->a->value_width);
        ft__drop_shares(t, first + i, from, seen, s);
        for (j = seen; j < count; ++j) s[j] = ds[j] = 0;
    }
}

/* What a block of queries and a tile of keys add to the gradients of this pass. */
static void ft__attend_back_tile(const ft__attending *t, size_t first, size_t rows, size_t from,
                                 size_t count)
{
    const ft__attention *a = t->a;
    const ft__tensor *const *x = a->part;
    size_t seen = ft__seen_of(t, first + rows - 1, from, count);
    size_t start = ft__first_seen_by(t, first, rows);
    size_t hidden = start <= from ? 0 : ft__min_size(start - from, seen); /* from all rows */
    ft__matrix p, ds;
    from += hidden;
    seen -= hidden;
    p = ft__rows_of(t->scores, seen);
    ds = ft__rows_of(t->slopes, seen);
    if (seen == 0) return;
    ft__attend_slopes(t, first, rows, from, seen);
    if (a->of_keys && x[2]->gradient)
        ft__head_product(t, seen, a->value_width, rows, ft__transposed(p),
                         ft__head_rows(t, 3, first, true), ft__head_rows(t, 2, from, true), true);
    if (a->of_keys && x[1]->gradient)
        ft__head_product(t, seen, a->width, rows, ft__transposed(ds),
                         ft__head_rows(t, 0, first, false), ft__head_rows(t, 1, from, true), true);
    if (a->of_queries && x[0]->gradient)
        ft__head_product(t, rows, a->width, seen, ds, ft__head_rows(t, 1, from, false),
                         ft__head_rows(t, 0, first, true), true);
}

/* All blocks of queries, of each head that shares these keys. */
static void ft__attend_back_keys(const ft__attention *a, size_t sample, size_t head, size_t from,
                                 size_t count, int slot)
{
    size_t shared, first;
    for (shared = 0; shared < a->shared; ++shared) {
        ft__attending t = ft__attending_of(a, sample, head * a->shared + shared, slot);
        size_t real = from >= t.keys ? 0 : t.keys - from < count ? t.keys - from : count;
        if (shared == 0) ft__clear_steps(&t, 1, from, count);
        if (shared == 0) ft__clear_steps(&t, 2, from, count);
        if (from == 0 && a->of_queries) ft__clear_steps(&t, 0, 0, a->queries);
        for (first = 0; real > 0 && first < t.queries; first += t.block)
            ft__attend_back_tile(&t, first, t.queries - first < t.block ? t.queries - first
                                                                        : t.block, from, real);
    }
}

/* Gradients of k and v by heads, and by blocks of keys if those of q have their own pass. */
static void ft__attention_keys_slot(void *context, int slot)
{
    const ft__attention *a = (const ft__attention *)context;
    size_t heads = a->heads / a->shared, pieces = a->samples * heads * a->blocks, piece;
    size_t each = (a->keys + a->blocks - 1) / a->blocks;
    size_t tile = each < FT__KEY_TILE ? each : FT__KEY_TILE;
    int share;
    FT__PIECES(piece, share, a->call->context, slot, pieces) {
        size_t head = piece / a->blocks, from = piece % a->blocks * each, end = from + each;
        if (end > a->keys) end = a->keys;
        for (; from < end; from += tile)
            ft__attend_back_keys(a, head / heads, head % heads, from,
                                 end - from < tile ? end - from : tile, slot);
    }
}

/* Gradients of q by blocks of queries. */
static void ft__attention_queries_slot(void *context, int slot)
{
    const ft__attention *a = (const ft__attention *)context;
    size_t pieces = a->samples * a->heads * a->blocks, piece, first, from;
    int share;
    FT__PIECES(piece, share, a->call->context, slot, pieces) {
        size_t head = piece / a->blocks;
        ft__attending t = ft__attending_of(a, head / a->heads, head % a->heads, slot);
        for (first = piece % a->blocks * t.block; first < t.queries; first += a->blocks * t.block) {
            size_t rows = t.queries - first < t.block ? t.queries - first : t.block;
            ft__clear_steps(&t, 0, first, rows);
            for (from = 0; from < t.keys; from += FT__KEY_TILE)
                ft__attend_back_tile(&t, first, rows, from, t.keys - from < FT__KEY_TILE
                                     ? t.keys - from : FT__KEY_TILE);
        }
        if (piece % a->blocks == 0) ft__clear_steps(&t, 0, t.queries, a->queries - t.queries);
    }
}

/* With enough heads for all threads one pass computes all gradients, of each head on one thread, by
   5 products. Else two passes split the heads, by 7. Both add up each number in the same order: but
   not if q is k or v, which then always takes two. Packed, each has columns of its own. */
static bool ft__attention_in_one(const ft__attention *a)
{
    const ft__tensor *const *x = a->part;
    size_t heads = a->samples * a->heads / a->shared, threads = (size_t)a->call->context->threads;
    if (!x[0]->gradient || (!x[1]->gradient && !x[2]->gradient)) return false;
    if (x[0] != x[1] && (x[0]->gradient == x[1]->gradient || x[0]->gradient == x[2]->gradient))
        return false;
    return 5 * ((heads + threads - 1) / threads) * threads <= 7 * heads;
}

static void ft__attention_backward(const ft__call *call)
{
    ft__attention a = ft__attention_of(call);
    bool one = ft__attention_in_one(&a);
    a.of_keys = a.part[1]->gradient || a.part[2]->gradient;
    a.of_queries = one;
    a.blocks = one ? 1 : (a.keys + FT__QUERY_BLOCK - 1) / FT__QUERY_BLOCK;
    if (a.of_keys) ft__parallel_slots(call->context, ft__attention_keys_slot, &a);
    a.of_keys = false;
    a.of_queries = !one && call->input[0].gradient;
    a.blocks = ft__query_blocks(&a);
    if (a.of_queries) ft__parallel_slots(call->context, ft__attention_queries_slot, &a);
}

/* In files: `attention` | q, k, v; then, if given, lengths; then positions in several documents,
   I32 [N, L] | `heads` 1, `key_value_heads` heads, `scale` 1/sqrt(size of a head), `causal` false,
   `all_queries` false, `dropout` 0 */
static const ft__row ft__row_attention = {
    FT__NAMED(attention), 1, 5,
    FT__READS_X | FT__READS_Y | FT__WRITES | FT__WRITES_ALL | FT__BY_STEP | FT__AFTER_PAST
        | FT__ATTENDS,
    ft__attention_shape, ft__attention_forward, FT__BACKWARD(ft__attention_backward),
    ft__attention_costs, ft__attention_fields, NULL};

ft_node ft_attention(ft_model *m, const char *name, ft_node q, ft_node k, ft_node v,
                     ft_attention_options options)
{
    ft_node inputs[5], none = {0};
    bool packed = !k.id && !v.id;
    int count = packed ? 1 : 3;
    if (!FT__HAS(m, ATTENTION)) return none;
    inputs[0] = q;
    inputs[1] = k;
    inputs[2] = v;
    inputs[count] = options.lengths;
    count += options.lengths.id ? 1 : 0;
    inputs[count] = options.positions;
    count += options.positions.id ? 1 : 0;
    options.lengths = options.positions = none; /* they are inputs now */
    return ft__add_node(m, &ft__row_attention, name, inputs, count, &options, sizeof options);
}
