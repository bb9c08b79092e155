/* test_gemm.c - matrix multiplication (kernels/gemm), and what uses it (kernels/convolution,
   operators/conv2d, operators/linear), at every SIMD level that this CPU has.

   The reference is naive loops in double, written here from the definitions. Inputs are small whole
   numbers, so that every sum is exact in any order and results must be EQUAL; a second pass with
   fractions has a tolerance. What must not depend on threads, partition, batch or neighbours is
   compared bit by bit. All buffers are between sentinels, and scratch starts as NaN. */
#include "internals.h"
#include "check.h"
#include "layout.h"

/* ---- Buffers with sentinels, numbers, models ---- */

enum { GUARD = 64 };

typedef struct guarded { float *all, *at; size_t count; } guarded;

/* A quiet NaN with a pattern: read, it spoils the result; overwritten, it is missed. */
static void fill_sentinels(float *to, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i) to[i] = ft__from_bits(0x7fc5a5a5u);
}

static bool all_sentinels(const float *at, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i)
        if (ft__to_bits(at[i]) != 0x7fc5a5a5u) return false;
    return true;
}

static guarded guard(size_t count)
{
    guarded g;
    g.all = (float *)malloc((count + 2 * GUARD) * sizeof(float));
    if (!g.all) exit(1);
    fill_sentinels(g.all, count + 2 * GUARD);
    g.at = g.all + GUARD;
    g.count = count;
    return g;
}

static bool intact(guarded g)
{
    return all_sentinels(g.all, GUARD) && all_sentinels(g.at + g.count, GUARD);
}

static uint32_t random_state = 1;

static uint32_t random_bits(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* Whole numbers from -4 to 4, or fractions between -1 and 1. */
static void fill(float *to, size_t count, bool whole)
{
    size_t i;
    for (i = 0; i < count; ++i)
        to[i] = whole ? (float)(random_bits() % 9) - 4.0f
                      : (float)random_bits() * (2.0f / 16777216.0f) - 1.0f;
}

static guarded filled(size_t count, bool whole)
{
    guarded g = guard(count);
    fill(g.at, count, whole);
    return g;
}

static bool same_bits(const float *a, const float *b, size_t count)
{
    return memcmp(a, b, count * sizeof(float)) == 0;
}

/* An app's parallel_for that runs the last index first. */
static void backwards(void *user, void (*body)(void *context, int index), void *context, int count)
{
    (void)user;
    while (count-- > 0) body(context, count);
}

/* NULL when the processor or the build does not have the level. threads < 0: `backwards`. */
static ft_model *model_in(const char *precision, int level, int threads)
{
    ft_desc desc;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    desc.simd = ft__tiles[level].name;
    desc.precision = precision;
    desc.threads = threads < 0 ? -threads : threads;
    if (threads < 0) desc.parallel_for = backwards;
    m = ft_create(desc);
    if (!m) exit(1);
    if (ft_error(m) == FT_OK) return m;
    ft_destroy(m);
    return NULL;
}

static ft_model *model_at(int level, int threads) { return model_in(NULL, level, threads); }

enum { FORKS = 5 };
static const int fork_threads[FORKS] = {1, 2, 3, 7, -4};

/* ---- Matrices as they may lie in memory ---- */

enum { FORMS = 5 };

/* Row after row; column after column; rows with a gap; every second number; last row first. */
static guarded lay_out(const float *values, size_t rows, size_t columns, int form, ft__matrix *to)
{
    size_t row = form == 1 ? 1 : form == 2 ? columns + 3 : form == 3 ? 2 * columns + 1 : columns;
    size_t column = form == 1 ? rows : form == 3 ? 2 : 1, i, j;
    guarded g = guard((rows - 1) * row + (columns - 1) * column + 1);
    to->at = g.at;
    to->row = (ptrdiff_t)row;
    to->column = (ptrdiff_t)column;
    if (form == 4) {
        to->at = g.at + (rows - 1) * row;
        to->row = -to->row;
    }
    for (i = 0; i < rows; ++i)
        for (j = 0; j < columns; ++j)
            g.at[to->at - g.at + (ptrdiff_t)i * to->row + (ptrdiff_t)j * to->column]
                = values[i * columns + j];
    return g;
}

/* How far the result may be from the exact one: a product of k terms whose magnitudes sum up to
   `size`. The worst case is k / 2^24 * size (Higham 2002, 3.1); errors of random sign add up like
   the square root, of which 4 times is allowed. */
static double allowed(size_t k, double size) { return 4 * sqrt((double)k + 1) / 16777216 * size; }

typedef struct product { size_t m, n, k; int a_form, b_form; bool accumulate, whole; } product;

/* Compares with the oracle; `before` is what the result started from. A row at a time, along the
   rows of b: down its columns it took three times as long. */
static bool product_right(const product *p, const float *a, const float *b, const float *before,
                          const float *out, size_t stride)
{
    double *want = (double *)malloc(p->n * sizeof *want), *size = (double *)malloc(p->n * sizeof *size);
    bool right = true;
    size_t i, j, l;
    if (!want || !size) exit(1);
    for (i = 0; right && i < p->m; ++i) {
        for (j = 0; j < p->n; ++j) {
            want[j] = p->accumulate ? (double)before[i * stride + j] : 0;
            size[j] = fabs(want[j]);
        }
        for (l = 0; l < p->k; ++l)
            for (j = 0; j < p->n; ++j) {
                double term = (double)a[i * p->k + l] * (double)b[l * p->n + j];
                want[j] += term;
                size[j] += fabs(term);
            }
        for (j = 0; right && j < p->n; ++j)
            if (!CLOSE(out[i * stride + j], want[j], p->whole ? 0 : allowed(p->k, size[j]))) {
                printf("  element %zu, %zu is %.9g, not %.9g\n", i, j, (double)out[i * stride + j],
                       want[j]);
                right = false;
            }
    }
    free(want);
    free(size);
    return right;
}

static void check_product(ft_model *m, product p)
{
    ft__context *c = &m->context;
    size_t stride = p.n + 3, i;
    guarded a = filled(p.m * p.k, p.whole), b = filled(p.k * p.n, p.whole);
    guarded out = guard(p.m * stride), before = guard(p.m * stride);
    guarded workspace = guard(ft__gemm_workspace(c, p.k));
    ft__matrix left, right;
    guarded a_memory = lay_out(a.at, p.m, p.k, p.a_form, &left);
    guarded b_memory = lay_out(b.at, p.k, p.n, p.b_form, &right);
    bool kept = true;
    for (i = 0; p.accumulate && i < p.m; ++i) fill(out.at + i * stride, p.n, p.whole);
    memcpy(before.at, out.at, p.m * stride * sizeof(float));
    ft__gemm_parallel(c, p.m, p.n, p.k, left, right, out.at, stride, p.accumulate, workspace.at);
    CHECK(product_right(&p, a.at, b.at, before.at, out.at, stride),
          "%s: %zux%zux%zu, forms %d and %d, accumulate %d, whole %d", ft__tiles[c->simd].name,
          p.m, p.n, p.k, p.a_form, p.b_form, p.accumulate, p.whole);
    for (i = 0; i < p.m; ++i) kept = kept && all_sentinels(out.at + i * stride + p.n, 3);
    CHECK(kept && intact(out) && intact(workspace), "%s: %zux%zux%zu writes beside the result or"
          " the workspace", ft__tiles[c->simd].name, p.m, p.n, p.k);
    free(a.all);
    free(b.all);
    free(out.all);
    free(before.all);
    free(workspace.all);
    free(a_memory.all);
    free(b_memory.all);
}

static void test_products(int level)
{
    static const size_t sizes[] = {1, 3, 17, 64};
    static const size_t large[][3] = { /* more than one block or piece along m, n, k */
        {509, 13, 7}, {11, 1031, 5}, {5, 7, 1021}, {257, 263, 269}, {240, 384, 512},
        {241, 385, 513}, {31, 33, 511}, {29, 31, 4099}};
    ft_model *one = model_at(level, 1), *m = model_at(level, 2);
    product p;
    size_t i, j, l;
    int form;
    for (i = 0; i < 4; ++i)
        for (j = 0; j < 4; ++j)
            for (l = 0; l < 4; ++l)
                for (form = 0; form < 2 * FORMS * FORMS; ++form) {
                    p.m = sizes[i];
                    p.n = sizes[j];
                    p.k = sizes[l];
                    p.a_form = form / 2 % FORMS;
                    p.b_form = form / 2 / FORMS;
                    p.accumulate = form % 2 != 0;
                    p.whole = true;
                    check_product(one, p);
                }
    for (i = 0; i < sizeof large / sizeof *large; ++i)
        for (form = 0; form < 4; ++form) {
            p.m = large[i][0];
            p.n = large[i][1];
            p.k = large[i][2];
            p.a_form = form % 2;
            p.b_form = 1 - form / 2;
            p.accumulate = form == 1 || form == 2;
            p.whole = true;
            check_product(m, p);
            p.whole = false;
            check_product(m, p);
        }
    ft_destroy(one);
    ft_destroy(m);
}

/* ---- The same bits however the work is parted ---- */

/* The product of rows from.. and columns from.., through the one-thread core. */
static void part_product(ft__context *c, const size_t rows[2], const size_t columns[2],
                         size_t k, ft__matrix a, ft__matrix b, float *out, size_t stride)
{
    guarded scratch = guard(ft__gemm_scratch(k));
    ft__product x;
    memset(&x, 0, sizeof x);
    x.context = c;
    x.a = a;
    x.b = b;
    x.k = k;
    x.out = out;
    x.stride = stride;
    ft__gemm_piece(&x, rows[0], rows[1] - rows[0], columns[0], columns[1] - columns[0],
                   scratch.at);
    CHECK(intact(scratch), "%s: %zux%zux%zu writes beside its scratch", ft__tiles[c->simd].name,
          rows[1] - rows[0], columns[1] - columns[0], k);
    free(scratch.all);
}

static void test_partition(int level, size_t m, size_t n, size_t k)
{
    ft_model *model = model_at(level, 1);
    const char *name = ft__tiles[level].name;
    guarded a = filled(m * k, false), b = filled(k * n, false);
    guarded whole = guard(m * n), parts = guard(m * n);
    size_t rows[4], columns[4], i, j;
    int f;
    rows[0] = columns[0] = 0;
    rows[1] = 1;
    rows[2] = m / 3 + 2;
    rows[3] = m;
    columns[1] = n / 2 + 1;
    columns[2] = n - 1;
    columns[3] = n;
    for (f = 0; f < FORKS; ++f) {
        ft_model *other = model_at(level, fork_threads[f]);
        guarded workspace = guard(ft__gemm_workspace(&other->context, k));
        ft__gemm_parallel(&other->context, m, n, k, ft__rows_of(a.at, k), ft__rows_of(b.at, n),
                          f ? parts.at : whole.at, n, false, workspace.at);
        CHECK(!f || same_bits(whole.at, parts.at, m * n), "%s: %zux%zux%zu, %d threads: other"
              " bits", name, m, n, k, fork_threads[f]);
        CHECK(intact(workspace), "%s: %zux%zux%zu, %d threads", name, m, n, k, fork_threads[f]);
        free(workspace.all);
        ft_destroy(other);
    }
    fill_sentinels(parts.at, m * n);
    for (i = 0; i < 3; ++i)
        for (j = 0; j < 3; ++j)
            part_product(&model->context, rows + i, columns + j, k, ft__rows_of(a.at, k),
                         ft__rows_of(b.at, n), parts.at, n);
    CHECK(same_bits(whole.at, parts.at, m * n), "%s: %zux%zux%zu in nine parts: other bits", name,
          m, n, k);
    CHECK(intact(whole) && intact(parts), "%s: %zux%zux%zu", name, m, n, k);
    ft_destroy(model);
    free(a.all);
    free(b.all);
    free(whole.all);
    free(parts.all);
}

/* A NaN stays in its own row (of a) or column (of b): a bad sample does not spoil others. */
static void test_nan(int level)
{
    enum { M = 19, N = 37, K = 300 };
    ft_model *model = model_at(level, 2);
    ft__context *c = &model->context;
    guarded a = filled(M * K, false), b = filled(K * N, false);
    guarded clean = guard(M * N), out = guard(M * N), workspace = guard(ft__gemm_workspace(c, K));
    int i, j, bad_row = 8, bad_column = 31;
    bool right = true;
    ft__gemm_parallel(c, M, N, K, ft__rows_of(a.at, K), ft__rows_of(b.at, N), clean.at, N, false,
                      workspace.at);
    a.at[bad_row * K + 270] = ft__from_bits(0x7fc00000u);
    b.at[3 * N + bad_column] = ft__from_bits(0x7f800000u);
    ft__gemm_parallel(c, M, N, K, ft__rows_of(a.at, K), ft__rows_of(b.at, N), out.at, N, false,
                      workspace.at);
    for (i = 0; i < M; ++i)
        for (j = 0; j < N; ++j) {
            float x = out.at[i * N + j];
            if (i == bad_row || j == bad_column) right = right && !(x - x == 0);
            else right = right && same_bits(&x, &clean.at[i * N + j], 1);
        }
    CHECK(right, "%s: NaN or infinity got lost or spread", ft__tiles[level].name);
    ft_destroy(model);
    free(a.all);
    free(b.all);
    free(clean.all);
    free(out.all);
    free(workspace.all);
}

static void test_choice(void)
{
    static const char *const names[] = {"mmx", "", "AVX2", "avx512 "};
    ft_desc desc;
    ft_model *m;
    int level, best = 0;
    size_t i;
    memset(&desc, 0, sizeof desc);
    for (level = 0; level < FT__SIMD_COUNT; ++level) {
        desc.simd = ft__tiles[level].name;
        m = ft_create(desc);
        if (ft__simd_available(level)) {
            best = level;
            CHECK(ft_error(m) == FT_OK && m->context.simd == level, "%s is available", desc.simd);
        } else
            CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), desc.simd) != NULL,
                  "%s: %s", desc.simd, ft_error_text(m));
        ft_destroy(m);
    }
    for (i = 0; i < sizeof names / sizeof *names; ++i) {
        desc.simd = names[i];
        m = ft_create(desc);
        CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "avx2") != NULL, "\"%s\": %s",
              names[i], ft_error_text(m));
        ft_destroy(m);
    }
    desc.simd = NULL;
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK && m->context.simd == best, "level %d is taken, %d is the best",
          m->context.simd, best);
    ft_destroy(m);
}

/* ---- One call of linear or conv2d, as graph/forward_backward makes it ---- */

typedef struct layer {
    ft__node node;
    ft__call call;
    ft__tensor input[3];
    ft__options activation;
    guarded x, w, b, y, dx, dw, db, dy, workspace;
    bool rounds;            /* the products see rounded factors */
} layer;

/* The oracle's results: exact when the inputs are whole. `off`: how far results may be from them, as
   a share of the largest; 0 but where the algorithm itself divides by 6 and 24 (Winograd's). */
typedef struct answers { double *y, *dx, *dw, *db, off; } answers;

static ft_shape shape_of(int rank, int a, int b, int c, int d)
{
    ft_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.rank = rank;
    shape.size[0] = a;
    shape.size[1] = b;
    shape.size[2] = c;
    shape.size[3] = d;
    return shape;
}

static void layer_start(layer *l, int op, ft_shape x, ft_shape w, bool whole)
{
    memset(l, 0, sizeof *l);
    l->node.op = op;
    l->node.name = (char *)(uintptr_t)"layer1";
    l->input[0].shape = x;
    l->input[1].shape = w;
    l->input[2].shape = shape_of(1, w.size[0], 0, 0, 0);
    l->x = filled(ft__count(&l->input[0]), whole);
    l->w = filled(ft__count(&l->input[1]), whole);
    l->b = filled(ft__count(&l->input[2]), whole);
    l->dx = filled(l->x.count, whole);
    l->dw = filled(l->w.count, whole);
    l->db = filled(l->b.count, whole);
    l->input[0].value = l->x.at;
    l->input[1].value = l->w.at;
    l->input[2].value = l->b.at;
    l->input[0].gradient = l->dx.at;
    l->input[1].gradient = l->dw.at;
    l->input[2].gradient = l->db.at;
}

/* bf16 has 8 bits: what a factor is there, by arithmetic instead of by bits. */
static double rounded(double value)
{
    int exponent;
    double fraction = frexp(value, &exponent);
    return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static bool in_winograd_form(const layer *l)
{
    ft__conv form;
    if (l->node.op != FT__OP_conv2d) return false;
    form = ft__conv_of_call(&l->call);
    return ft__winograd_fits(&form);
}

/* Do the products see rounded factors? In Winograd's form they see other numbers. */
static bool rounds_factors(const layer *l)
{
    ft__conv form;
    if (l->call.context->precision == FT__FLOAT32 || in_winograd_form(l)) return false;
    if (l->node.op != FT__OP_conv2d) return true;
    form = ft__conv_of_call(&l->call);
    return form.groups == 1 && form.kernel[0] * form.kernel[1] <= 64;
}

/* A factor as the products of this layer see it. */
static double seen(const layer *l, float value)
{
    return l->rounds ? rounded((double)value) : (double)value;
}

/* Shapes, costs and output; false: the shape rule refused. */
static bool layer_prepare(layer *l, ft_model *m, bool whole)
{
    ft__costs costs = {0, 0, 0, 0, 0};
    l->call.context = &m->context;
    l->call.node = &l->node;
    l->call.input = l->input;
    l->call.input_count = 3;
    if (ft__rows[l->node.op]->shape(&m->context, &l->node, l->input, 3, &l->call.output.shape)
        != FT_OK) return false;
    l->y = guard(ft__count(&l->call.output));
    l->dy = filled(l->y.count, whole);
    l->call.training = true; /* room for backward too */
    l->call.output.value = l->y.at;
    l->call.output.gradient = l->dy.at;
    ft__rows[l->node.op]->costs(&l->call, &costs);
    l->workspace = guard(costs.workspace / sizeof(float));
    l->call.workspace = costs.workspace ? l->workspace.at : NULL;
    l->rounds = rounds_factors(l);
    return true;
}

static void layer_free(layer *l)
{
    free(l->x.all);
    free(l->w.all);
    free(l->b.all);
    free(l->y.all);
    free(l->dx.all);
    free(l->dw.all);
    free(l->db.all);
    free(l->dy.all);
    free(l->workspace.all);
}

static bool layer_intact(const layer *l)
{
    return intact(l->x) && intact(l->w) && intact(l->b) && intact(l->y) && intact(l->dx)
        && intact(l->dw) && intact(l->db) && intact(l->dy) && intact(l->workspace);
}

static void layer_run(layer *l)
{
    ft__rows[l->node.op]->forward(&l->call);
    ft__rows[l->node.op]->backward(&l->call);
}

/* What the gradients start from is part of the answer: backward adds. */
static answers answers_start(const layer *l)
{
    answers a;
    size_t i;
    a.y = (double *)calloc(l->y.count, sizeof(double));
    a.dx = (double *)calloc(l->dx.count, sizeof(double));
    a.dw = (double *)calloc(l->dw.count, sizeof(double));
    a.db = (double *)calloc(l->db.count, sizeof(double));
    if (!a.y || !a.dx || !a.dw || !a.db) exit(1);
    a.off = 0;
    for (i = 0; i < l->dx.count; ++i) a.dx[i] = (double)l->dx.at[i];
    for (i = 0; i < l->dw.count; ++i) a.dw[i] = (double)l->dw.at[i];
    for (i = 0; i < l->db.count; ++i) a.db[i] = (double)l->db.at[i];
    return a;
}

static void answers_free(answers *a)
{
    free(a->y);
    free(a->dx);
    free(a->dw);
    free(a->db);
}

static bool equal(const char *what, guarded got, const double *want, double off)
{
    double largest = 0;
    size_t i;
    for (i = 0; i < got.count; ++i)
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    for (i = 0; i < got.count; ++i)
        if (!CLOSE(got.at[i], want[i], off * largest)) {
            printf("  %s[%zu] is %.9g, not %.9g\n", what, i, (double)got.at[i], want[i]);
            return false;
        }
    return true;
}

static const char *level_of(const ft__context *c)
{
    return c->precision ? ft__bf16_rows[c->precision].tile.name : ft__tiles[c->simd].name;
}

static void check_answers(const layer *l, answers *a, const char *what, int index)
{
    const char *level = level_of(l->call.context);
    CHECK(equal("y", l->y, a->y, a->off), "%s: %s %d, forward", level, what, index);
    CHECK(equal("dx", l->dx, a->dx, a->off), "%s: %s %d, gradient of x", level, what, index);
    CHECK(equal("dw", l->dw, a->dw, a->off), "%s: %s %d, gradient of weight", level, what, index);
    CHECK(equal("db", l->db, a->db, a->off), "%s: %s %d, gradient of bias", level, what, index);
    CHECK(layer_intact(l), "%s: %s %d writes beside a buffer", level, what, index);
    answers_free(a);
}

/* ---- conv2d ---- */

typedef struct picture { /* sizes, options, and by hand: output and padding before */
    int n, c, h, w, o, kernel[2], stride[2], padding[4], dilation[2], groups;
    bool same;
    int out[2], before[2];
} picture;

static const picture pictures[] = {
    {2, 1, 3, 3, 1, {1, 1}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {3, 3}, {0, 0}},
    {3, 3, 17, 17, 17, {3, 3}, {1, 0}, {1, 0, 0, 0}, {1, 0}, 1, false, {17, 17}, {1, 1}},
    {2, 64, 7, 7, 64, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {7, 7}, {1, 1}},
    {2, 3, 23, 19, 8, {7, 7}, {2, 0}, {3, 0, 0, 0}, {0, 0}, 0, false, {12, 10}, {3, 3}},
    /* 1x1: with a stride, as a plain product, with padding */
    {2, 4, 9, 11, 6, {1, 1}, {2, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {5, 6}, {0, 0}},
    {3, 17, 6, 5, 13, {1, 1}, {1, 1}, {0, 0, 0, 0}, {0, 0}, 0, false, {6, 5}, {0, 0}},
    {1, 4, 5, 5, 6, {1, 1}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {7, 7}, {1, 1}},
    {1, 4, 5, 5, 6, {1, 1}, {0, 0}, {0, 0, 1, 2}, {0, 0}, 0, false, {6, 7}, {0, 0}},
    /* everything different in the two directions */
    {2, 6, 10, 9, 9, {3, 2}, {2, 1}, {1, 0, 2, 1}, {1, 3}, 3, false, {6, 7}, {1, 0}},
    {2, 3, 12, 12, 5, {3, 3}, {0, 0}, {2, 0, 0, 0}, {2, 0}, 0, false, {12, 12}, {2, 2}},
    {1, 2, 2, 2, 3, {5, 5}, {0, 0}, {2, 0, 0, 0}, {0, 0}, 0, false, {2, 2}, {2, 2}},
    {3, 5, 6, 6, 7, {6, 6}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {1, 1}, {0, 0}},
    {1, 3, 11, 11, 4, {2, 2}, {5, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {2, 2}, {0, 0}},
    {2, 8, 6, 6, 8, {3, 3}, {2, 0}, {1, 0, 0, 0}, {0, 0}, 2, false, {3, 3}, {1, 1}},
    /* depthwise; with several outputs to a channel; narrow */
    {3, 5, 8, 7, 5, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 5, false, {8, 7}, {1, 1}},
    {2, 4, 9, 8, 12, {3, 5}, {2, 0}, {1, 2, 1, 2}, {0, 0}, 4, false, {5, 4}, {1, 2}},
    {1, 3, 6, 1, 3, {3, 3}, {0, 0}, {2, 0, 0, 0}, {2, 0}, 3, false, {6, 1}, {2, 2}},
    {2, 2, 40, 37, 2, {3, 3}, {1, 2}, {1, 0, 0, 0}, {0, 0}, 2, false, {40, 19}, {1, 1}},
    /* TensorFlow's SAME */
    {2, 3, 6, 5, 4, {3, 3}, {2, 0}, {9, 9, 9, 9}, {0, 0}, 0, true, {3, 3}, {0, 1}},
    {1, 3, 7, 6, 3, {3, 3}, {2, 0}, {0, 0, 0, 0}, {0, 0}, 3, true, {4, 3}, {1, 0}},
    {1, 2, 5, 5, 3, {4, 2}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, true, {5, 5}, {1, 0}},
    {1, 2, 9, 9, 3, {1, 2}, {4, 3}, {0, 0, 0, 0}, {0, 2}, 0, true, {3, 3}, {0, 0}},
    /* more than one piece of columns, and of channels */
    {1, 3, 101, 101, 4, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {101, 101}, {1, 1}},
    {1, 20, 40, 40, 3, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {40, 40}, {1, 1}},
    /* Winograd's: whole and cut tiles, without and with more padding, more than one chunk, and
       weights that the threads share out */
    {2, 16, 8, 8, 16, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {8, 8}, {1, 1}},
    {3, 32, 13, 11, 48, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {11, 9}, {0, 0}},
    {1, 48, 10, 14, 32, {3, 3}, {0, 0}, {2, 1, 0, 1}, {0, 0}, 0, false, {10, 14}, {2, 1}},
    {1, 16, 101, 67, 32, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {101, 67}, {1, 1}},
    {2, 144, 7, 7, 128, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {7, 7}, {1, 1}},
    {14, 16, 12, 12, 1040, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, true, {12, 12}, {1, 1}},
    /* the same shapes, but too small for it, or with a stride */
    {2, 64, 5, 5, 48, {3, 3}, {0, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {5, 5}, {1, 1}},
    {2, 64, 9, 9, 48, {3, 3}, {2, 0}, {1, 0, 0, 0}, {0, 0}, 0, false, {5, 5}, {1, 1}}};
enum { PICTURES = sizeof pictures / sizeof *pictures };

static void conv_start(layer *l, const picture *p, int batch, bool whole)
{
    int groups = p->groups ? p->groups : 1;
    ft_conv2d_options *o;
    layer_start(l, FT__OP_conv2d, shape_of(4, batch, p->c, p->h, p->w),
                shape_of(4, p->o, p->c / groups, p->kernel[0], p->kernel[1]), whole);
    o = &l->node.options.conv2d;
    memcpy(o->stride, p->stride, sizeof o->stride);
    memcpy(o->padding, p->padding, sizeof o->padding);
    memcpy(o->dilation, p->dilation, sizeof o->dilation);
    o->groups = p->groups;
    o->same = p->same;
}

/* What the products of a layer see of its factors. */
static double *seen_all(const layer *l, guarded from)
{
    double *to = (double *)malloc(from.count * sizeof *to);
    size_t i;
    if (!to) exit(1);
    for (i = 0; i < from.count; ++i) to[i] = seen(l, from.at[i]);
    return to;
}

/* One output pixel, from the definition: its value, and what its gradient adds to the others. `x` and
   `w` are what the products see; channels of a picture lie side by side (see layout.h). */
static void conv_pixel(const layer *l, const picture *p, const double *x, const double *w,
                       const int at[4], answers *a)
{
    int groups = p->groups ? p->groups : 1, channels = p->c / groups, per = p->o / groups;
    int stride[2], dilation[2], taps = p->kernel[0] * p->kernel[1], c, ky, kx;
    size_t out = place_of(&l->call.output.shape, channels_last_order, (size_t)(
        ((at[0] * p->o + at[1]) * p->out[0] + at[2]) * p->out[1] + at[3]));
    double dy = seen(l, l->dy.at[out]), sum = (double)l->b.at[at[1]];
    for (c = 0; c < 2; ++c) {
        stride[c] = p->stride[c] ? p->stride[c] : p->stride[0] ? p->stride[0] : 1;
        dilation[c] = p->dilation[c] ? p->dilation[c] : p->dilation[0] ? p->dilation[0] : 1;
    }
    a->db[at[1]] += (double)l->dy.at[out];
    for (ky = 0; ky < p->kernel[0]; ++ky)
        for (kx = 0; kx < p->kernel[1]; ++kx) {
            int down = at[2] * stride[0] + ky * dilation[0] - p->before[0];
            int right = at[3] * stride[1] + kx * dilation[1] - p->before[1];
            int first = at[1] / per * channels;
            size_t in, weight = (size_t)(at[1] * channels * taps + ky * p->kernel[1] + kx);
            if (down < 0 || down >= p->h || right < 0 || right >= p->w) continue;
            in = place_of(&l->input[0].shape, channels_last_order, (size_t)(
                ((at[0] * p->c + first) * p->h + down) * p->w + right));
            for (c = 0; c < channels; ++c, weight += (size_t)taps) {
                sum += x[in + (size_t)c] * w[weight];
                a->dx[in + (size_t)c] += w[weight] * dy;
                a->dw[weight] += x[in + (size_t)c] * dy;
            }
        }
    a->y[out] = sum;
}

/* ---- F(4x4, 3x3) with factors rounded to bf16, from its points, as Cook and Toom have it ---- */
enum { POINTS = 5, TILE = 6, SQUARE = TILE * TILE };
static const double points[POINTS] = {0, 0.75, -0.75, 1.5, -1.5}; /* and infinity */

typedef struct cook_toom { double a[TILE][4], g[TILE][3], b[TILE][TILE], over[TILE]; } cook_toom;

/* Values at the points of polynomials of 4 and of 3 coefficients, the polynomials that are zero at
   all other points, and what those are at their own. */
static cook_toom cook_toom_of(void)
{
    cook_toom t;
    int i, j, k;
    memset(&t, 0, sizeof t);
    for (i = 0; i < TILE; ++i) {
        t.over[i] = t.b[i][0] = 1;
        for (j = 0; j < 4; ++j) t.a[i][j] = i < POINTS ? pow(points[i], j) : j == 3;
        for (j = 0; j < 3; ++j) t.g[i][j] = i < POINTS ? pow(points[i], j) : j == 2;
        for (j = 0; j < POINTS; ++j) {
            if (j == i) continue;
            for (k = TILE - 1; k >= 0; --k) /* times x - points[j] */
                t.b[i][k] = (k > 0 ? t.b[i][k - 1] : 0) - points[j] * t.b[i][k];
            if (i < POINTS) t.over[i] *= points[i] - points[j];
        }
    }
    return t;
}

/* Number (i, j) of left [][n] times square [n][n] times left's transpose. */
static double both_sides(const double *left, int n, const double *square, int i, int j)
{
    double sum = 0;
    int p, q;
    for (p = 0; p < n; ++p)
        for (q = 0; q < n; ++q) sum += left[i * n + p] * square[p * n + q] * left[j * n + q];
    return sum;
}

static double pixel_of(const guarded *values, const ft_shape *shape, int n, int c, int y, int x)
{
    size_t at;
    if (y < 0 || y >= shape->size[2] || x < 0 || x >= shape->size[3]) return 0;
    at = (size_t)(((n * shape->size[1] + c) * shape->size[2] + y) * shape->size[3] + x);
    return (double)values->at[place_of(shape, channels_last_order, at)];
}

/* Squares of `size` at (y, x) of picture n, for all channels: left square left^T, rounded. */
static void seen_squares(const guarded *values, const ft_shape *shape, int n, int y, int x,
                         const double *left, int size, double *to)
{
    double square[SQUARE];
    int c, i;
    for (c = 0; c < shape->size[1]; ++c, to += SQUARE) {
        for (i = 0; i < size * size; ++i)
            square[i] = pixel_of(values, shape, n, c, y + i / size, x + i % size);
        for (i = 0; i < SQUARE; ++i)
            to[i] = rounded(both_sides(left, size, square, i / TILE, i % TILE));
    }
}

/* Adds one tile at (y, x) of picture n: sums over `channels` of `from` times the kernels, which lie
   `step` apart from channel to channel and `row` from output to output. */
static void add_tile(const cook_toom *t, const double *from, int channels, const double *kernel,
                     int step, int row, const ft_shape *shape, int n, int y, int x, double *to)
{
    int o, c, i, down, right;
    for (o = 0; o < shape->size[1]; ++o) {
        double sum[SQUARE] = {0};
        for (c = 0; c < channels; ++c)
            for (i = 0; i < SQUARE; ++i)
                sum[i] += from[c * SQUARE + i] * kernel[(o * row + c * step) * SQUARE + i];
        for (down = 0; down < 4 && y + down < shape->size[2]; ++down)
            for (right = 0; right < 4 && x + right < shape->size[3]; ++right) {
                size_t k = (size_t)(((n * shape->size[1] + o) * shape->size[2] + y + down)
                                    * shape->size[3] + x + right);
                for (i = 0; i < SQUARE; ++i)
                    to[place_of(shape, channels_last_order, k)] += sum[i] * t->a[i / TILE][down]
                        * t->a[i % TILE][right] / (t->over[i / TILE] * t->over[i % TILE]);
            }
    }
}

/* All kernels of a layer, rounded; turned round or not. */
static double *seen_kernels(const cook_toom *t, const layer *l, int count, bool turned)
{
    double *to = (double *)malloc((size_t)count * SQUARE * sizeof *to), kernel[9];
    int k, i;
    if (!to) exit(1);
    for (k = 0; k < count; ++k) {
        for (i = 0; i < 9; ++i) kernel[i] = (double)l->w.at[k * 9 + (turned ? 8 - i : i)];
        for (i = 0; i < SQUARE; ++i)
            to[k * SQUARE + i] = rounded(both_sides(t->g[0], 3, kernel, i / TILE, i % TILE));
    }
    return to;
}

/* y and dw. */
static void winograd_outputs(const cook_toom *t, const layer *l, const picture *p, double *x,
                             double *dy, answers *a)
{
    const ft_shape *in = &l->input[0].shape, *out = &l->call.output.shape;
    double *kernels = seen_kernels(t, l, p->c * p->o, false);
    double *sums = (double *)calloc((size_t)(p->c * p->o * SQUARE), sizeof *sums);
    int n, r, s, k, i, tap;
    if (!sums) exit(1);
    for (k = 0; k < (int)l->y.count; ++k) { /* channels last */
        a->y[k] = (double)l->b.at[k % p->o];
        a->db[k % p->o] += (double)l->dy.at[k];
    }
    for (n = 0; n < p->n; ++n)
        for (r = 0; r < p->out[0]; r += 4)
            for (s = 0; s < p->out[1]; s += 4) {
                seen_squares(&l->x, in, n, r - p->before[0], s - p->before[1], t->b[0], TILE, x);
                seen_squares(&l->dy, out, n, r, s, t->a[0], 4, dy);
                add_tile(t, x, p->c, kernels, 1, p->c, out, n, r, s, a->y);
                for (k = 0; k < p->c * p->o; ++k)
                    for (i = 0; i < SQUARE; ++i)
                        sums[k * SQUARE + i] += x[k % p->c * SQUARE + i]
                            * dy[k / p->c * SQUARE + i];
            }
    for (k = 0; k < p->c * p->o * 9; ++k)
        for (tap = k % 9, i = 0; i < SQUARE; ++i)
            a->dw[k] += sums[k / 9 * SQUARE + i] * t->g[i / TILE][tap / 3] * t->g[i % TILE][tap % 3]
                / (t->over[i / TILE] * t->over[i % TILE]);
    free(kernels);
    free(sums);
}

static void winograd_answers(const layer *l, const picture *p, answers *a)
{
    const ft_shape *in = &l->input[0].shape, *out = &l->call.output.shape;
    cook_toom t = cook_toom_of();
    double *x = (double *)malloc((size_t)(p->c * SQUARE) * sizeof *x);
    double *dy = (double *)malloc((size_t)(p->o * SQUARE) * sizeof *dy);
    double *kernels = seen_kernels(&t, l, p->c * p->o, true);
    int n, r, s;
    if (!x || !dy) exit(1);
    winograd_outputs(&t, l, p, x, dy, a);
    for (n = 0; n < p->n; ++n)
        for (r = 0; r < p->h; r += 4)
            for (s = 0; s < p->w; s += 4) {
                seen_squares(&l->dy, out, n, r + p->before[0] - 2, s + p->before[1] - 2, t.b[0],
                             TILE, dy);
                add_tile(&t, dy, p->o, kernels, p->c, 1, in, n, r, s, a->dx);
            }
    free(x);
    free(dy);
    free(kernels);
}

static void test_conv(ft_model *m, int index, bool whole)
{
    const picture *p = &pictures[index];
    layer l;
    answers a;
    double *x, *w;
    int at[4];
    size_t i;
    bool bf16;
    conv_start(&l, p, p->n, whole);
    CHECK(layer_prepare(&l, m, whole) && l.call.output.shape.size[2] == p->out[0]
          && l.call.output.shape.size[3] == p->out[1], "conv %d: output %dx%d, not %dx%d: %s",
          index, l.call.output.shape.size[2], l.call.output.shape.size[3], p->out[0], p->out[1],
          ft_error_text(m));
    a = answers_start(&l);
    bf16 = in_winograd_form(&l) && m->context.precision != FT__FLOAT32;
    x = seen_all(&l, l.x);
    w = seen_all(&l, l.w);
    if (bf16 && whole) winograd_answers(&l, p, &a);
    else for (at[0] = 0; at[0] < p->n; ++at[0])
        for (at[1] = 0; at[1] < p->o; ++at[1])
            for (at[2] = 0; at[2] < p->out[0]; ++at[2])
                for (at[3] = 0; at[3] < p->out[1]; ++at[3]) conv_pixel(&l, p, x, w, at, &a);
    free(x);
    free(w);
    l.call.fused = &ft__row_leaky_relu; /* slope 1/2: exact */
    l.activation.activation.slope = 0.5f;
    l.call.fused_options = &l.activation;
    if (bf16 && !whole) a.off = 3e-2; /* from the definition; whole numbers, from what is seen */
    else if (in_winograd_form(&l)) a.off = bf16 ? 3e-6 : 3e-5;
    else if (!whole) a.off = 2e-6;
    for (i = 0; i < l.y.count; ++i) a.y[i] = a.y[i] < 0 ? a.y[i] / 2 : a.y[i];
    layer_run(&l);
    check_answers(&l, &a, "conv", index);
    layer_free(&l);
}

/* The same call with other threads, and without the gradients of the inputs whose bit is set in
   `without`: nothing else changes. */
static void check_same(layer *l, ft_model *m, const layer *all, int without, const char *what,
                       int index)
{
    const char *level = level_of(&m->context);
    int i;
    if (!layer_prepare(l, m, false)) return;
    memcpy(l->dy.at, all->dy.at, l->dy.count * sizeof(float));
    for (i = 0; i < 3; ++i)
        if (without >> i & 1) l->input[i].gradient = NULL;
    layer_run(l);
    CHECK(same_bits(l->y.at, all->y.at, l->y.count), "%s: %s %d, y with %d threads", level, what,
          index, m->context.threads);
    CHECK(without & 1 || same_bits(l->dx.at, all->dx.at, l->dx.count),
          "%s: %s %d, dx with %d threads, without %d", level, what, index, m->context.threads,
          without);
    CHECK(without & 2 || same_bits(l->dw.at, all->dw.at, l->dw.count),
          "%s: %s %d, dw with %d threads, without %d", level, what, index, m->context.threads,
          without);
    CHECK(without & 4 || same_bits(l->db.at, all->db.at, l->db.count),
          "%s: %s %d, db with %d threads, without %d", level, what, index, m->context.threads,
          without);
    CHECK(layer_intact(l), "%s: %s %d, %d threads: writes beside a buffer", level, what, index,
          m->context.threads);
    layer_free(l);
}

/* Sample `sample` of `all`, whose dx was `dx` before, alone in `one`. */
static void check_alone(layer *one, ft_model *m, const layer *all, const float *dx, int sample,
                        const char *what, int index)
{
    const char *level = level_of(&m->context);
    size_t in = one->x.count * (size_t)sample, out;
    memcpy(one->x.at, all->x.at + in, one->x.count * sizeof(float));
    memcpy(one->dx.at, dx + in, one->x.count * sizeof(float));
    memcpy(one->w.at, all->w.at, one->w.count * sizeof(float));
    memcpy(one->b.at, all->b.at, one->b.count * sizeof(float));
    if (!layer_prepare(one, m, false)) return;
    CHECK(one->workspace.count <= all->workspace.count || m->context.threads > 1,
          "%s: %s %d: a smaller batch wants more workspace", level, what, index);
    out = one->y.count * (size_t)sample;
    memcpy(one->dy.at, all->dy.at + out, one->y.count * sizeof(float));
    layer_run(one);
    CHECK(same_bits(one->y.at, all->y.at + out, one->y.count), "%s: %s %d: sample %d alone has"
          " other bits", level, what, index, sample);
    CHECK(same_bits(one->dx.at, all->dx.at + in, one->x.count), "%s: %s %d: sample %d alone has"
          " another gradient", level, what, index, sample);
    layer_free(one);
}

static void test_conv_bits(ft_model *const forks[FORKS], int index)
{
    const picture *p = &pictures[index];
    layer all, l;
    guarded before;
    int f, sample;
    random_state = 77;
    conv_start(&all, p, p->n, false);
    if (!layer_prepare(&all, forks[0], false)) return;
    before = guard(all.dx.count);
    memcpy(before.at, all.dx.at, all.dx.count * sizeof(float));
    layer_run(&all);
    for (f = 1; f < 2 * FORKS; ++f) {
        random_state = 77;
        conv_start(&l, p, p->n, false);
        check_same(&l, forks[f % FORKS], &all, f < FORKS ? 0 : 1 + (index + f) % 7, "conv",
                   index);
    }
    for (sample = 0; sample < p->n; ++sample) {
        conv_start(&l, p, 1, false);
        check_alone(&l, forks[sample % 2], &all, before.at, sample, "conv", index);
    }
    layer_free(&all);
    free(before.all);
}

/* A shape that is refused, and what the line says of it. */
typedef struct refusal { picture p; int in_channels; const char *says; } refusal;

static void test_refusals(void)
{
    static const refusal refusals[] = {
        {{1, 3, 8, 8, 4, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {0, 0}, {0, 0}}, 1,
         "input has 3 channels, but the weight is for 1"},
        {{1, 4, 8, 8, 4, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 3, false, {0, 0}, {0, 0}}, 1,
         "3 groups do not divide"},
        {{1, 4, 8, 8, 6, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 4, false, {0, 0}, {0, 0}}, 1,
         "4 groups do not divide"},
        {{1, 3, 8, 2, 4, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {0, 0}, {0, 0}}, 3,
         "kernel 3x3"},
        {{1, 3, 8, 8, 4, {3, 3}, {0, 0}, {0, 0, 0, 0}, {4, 0}, 0, false, {0, 0}, {0, 0}}, 3,
         "dilated by 4"},
        {{1, 3, 8, 8, 4, {3, 3}, {-1, 0}, {0, 0, 0, 0}, {0, 0}, 0, false, {0, 0}, {0, 0}}, 3,
         "stride -1"},
        {{1, 3, 8, 8, 4, {3, 3}, {0, 0}, {0, 0, 0, -2}, {0, 0}, 0, false, {0, 0}, {0, 0}}, 3,
         "padding -2"},
        {{1, 3, 8, 8, 4, {3, 3}, {0, 0}, {0, 0, 0, 0}, {0, 0}, -1, false, {0, 0}, {0, 0}}, 3,
         "groups -1"},
        /* sizes whose products do not fit into 32 bits */
        {{1, 1, 8, 8, 1, {4194305, 1}, {0, 0}, {0, 0, 0, 0}, {1024, 1}, 0, false, {0, 0}, {0, 0}},
         1, "does not fit"},
        {{1, 1, 8, 8, 1, {1, INT_MAX}, {0, 0}, {0, 0, 0, 0}, {1, 1024}, 0, false, {0, 0}, {0, 0}},
         1, "does not fit"}};
    ft_model *m = model_at(0, 1);
    size_t i;
    for (i = 0; i < sizeof refusals / sizeof *refusals; ++i) {
        const picture *p = &refusals[i].p;
        ft__tensor input[2];
        ft__node node;
        ft_shape out;
        memset(&node, 0, sizeof node);
        memset(input, 0, sizeof input);
        node.op = FT__OP_conv2d;
        node.name = (char *)(uintptr_t)"layer1";
        memcpy(node.options.conv2d.stride, p->stride, sizeof p->stride);
        memcpy(node.options.conv2d.padding, p->padding, sizeof p->padding);
        memcpy(node.options.conv2d.dilation, p->dilation, sizeof p->dilation);
        node.options.conv2d.groups = p->groups;
        input[0].shape = shape_of(4, FT_BATCH, p->c, p->h, p->w);
        input[1].shape = shape_of(4, p->o, refusals[i].in_channels, p->kernel[0], p->kernel[1]);
        CHECK(ft__conv2d_shape(&m->context, &node, input, 2, &out) != FT_OK
              && strncmp(ft_error_text(m), "layer1: ", 8) == 0
              && strstr(ft_error_text(m), refusals[i].says) != NULL, "refusal %zu: %s, not %s", i,
              ft_error_text(m), refusals[i].says);
        ft_clear_error(m);
    }
    ft_destroy(m);
}

/* ---- linear ---- */

static const int linears[][3] = { /* rows, inputs, outputs */
    {1, 1, 1}, {3, 17, 64}, {17, 64, 3}, {64, 3, 17}, {5, 300, 10}, {261, 7, 11}, {2, 5, 519},
    {12, 1, 259}, {1100, 2, 241}, {19, 83, 70}, {70, 83, 70}}; /* dx of few rows, and of more */
enum { LINEARS = sizeof linears / sizeof *linears };

/* A rank of 3 where the rows can be parted: [rows / 2, 2, inputs]. */
static void linear_start(layer *l, const int size[3], int rows, bool whole)
{
    ft_shape x = rows > 1 && rows % 2 == 0 ? shape_of(3, rows / 2, 2, size[1], 0)
                                           : shape_of(2, rows, size[1], 0, 0);
    layer_start(l, FT__OP_linear, x, shape_of(2, size[2], size[1], 0, 0), whole);
}

static void test_linear(ft_model *m, int index, bool whole)
{
    size_t rows = (size_t)linears[index][0], in = (size_t)linears[index][1];
    size_t out = (size_t)linears[index][2], r, i, o;
    layer l;
    answers a;
    linear_start(&l, linears[index], linears[index][0], whole);
    CHECK(layer_prepare(&l, m, whole) && l.call.output.shape.rank == l.input[0].shape.rank
          && l.y.count == rows * out, "linear %d: %s", index, ft_error_text(m));
    a = answers_start(&l);
    for (r = 0; r < rows; ++r)
        for (o = 0; o < out; ++o) {
            double dy = seen(&l, l.dy.at[r * out + o]), *y = &a.y[r * out + o];
            *y = (double)l.b.at[o];
            a.db[o] += (double)l.dy.at[r * out + o];
            for (i = 0; i < in; ++i) {
                *y += seen(&l, l.x.at[r * in + i]) * seen(&l, l.w.at[o * in + i]);
                a.dx[r * in + i] += seen(&l, l.w.at[o * in + i]) * dy;
                a.dw[o * in + i] += seen(&l, l.x.at[r * in + i]) * dy;
            }
            *y = *y < 0 ? *y / 2 : *y;
        }
    if (!whole) a.off = 2e-6;
    l.call.fused = &ft__row_leaky_relu;
    l.activation.activation.slope = 0.5f;
    l.call.fused_options = &l.activation;
    layer_run(&l);
    check_answers(&l, &a, "linear", index);
    layer_free(&l);
}

static void test_linear_bits(ft_model *const forks[FORKS], int index)
{
    const int *size = linears[index];
    layer all, l;
    guarded before;
    int f, row;
    random_state = 78;
    linear_start(&all, size, size[0], false);
    if (!layer_prepare(&all, forks[0], false)) return;
    before = guard(all.dx.count);
    memcpy(before.at, all.dx.at, all.dx.count * sizeof(float));
    layer_run(&all);
    for (f = 1; f < 2 * FORKS; ++f) {
        random_state = 78;
        linear_start(&l, size, size[0], false);
        check_same(&l, forks[f % FORKS], &all, f < FORKS ? 0 : 1 + (index + f) % 7, "linear",
                   index);
    }
    for (row = 0; row < size[0]; row += 1 + row / 3) {
        linear_start(&l, size, 1, false);
        check_alone(&l, forks[row % 2], &all, before.at, row, "linear", index);
    }
    layer_free(&all);
    free(before.all);
}

static void test_linear_refusals(void)
{
    ft_model *m = model_at(0, 1);
    ft__tensor input[3];
    ft__node node;
    ft_shape out;
    memset(&node, 0, sizeof node);
    memset(input, 0, sizeof input);
    node.op = FT__OP_linear;
    node.name = (char *)(uintptr_t)"head";
    input[0].shape = shape_of(2, FT_BATCH, 5, 0, 0);
    input[1].shape = shape_of(2, 4, 6, 0, 0);
    input[2].shape = shape_of(1, 4, 0, 0, 0);
    CHECK(ft__linear_shape(&m->context, &node, input, 3, &out) == FT_SHAPE
          && strncmp(ft_error_text(m), "head: ", 6) == 0, "%s", ft_error_text(m));
    ft_clear_error(m);
    input[1].shape.size[1] = 5;
    input[2].shape.size[0] = 5;
    CHECK(ft__linear_shape(&m->context, &node, input, 3, &out) == FT_SHAPE
          && strstr(ft_error_text(m), "bias") != NULL, "%s", ft_error_text(m));
    ft_clear_error(m);
    input[2].shape.size[0] = 4;
    input[0].type = FT_I32;
    CHECK(ft__linear_shape(&m->context, &node, input, 3, &out) == FT_SHAPE
          && strstr(ft_error_text(m), "F32") != NULL, "%s", ft_error_text(m));
    ft_clear_error(m);
    input[0].type = FT_F32;
    CHECK(ft__linear_shape(&m->context, &node, input, 3, &out) == FT_OK && out.rank == 2
          && out.size[0] == FT_BATCH && out.size[1] == 4, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- bf16 ---- */

/* Too many products for the slow one. */
static bool is_large(const picture *p)
{
    return (double)(p->n * p->o * p->c) * p->out[0] * p->out[1] * p->kernel[0] * p->kernel[1] > 3e7;
}

/* Against the definition with rounded factors, and, where there is the instruction, in the bits. */
static void test_bf16(void)
{
    static const char *const names[] = {"bf16_emulated", "bf16"};
    ft_model *forks[FORKS], *plain = model_in(names[0], 0, 3);
    layer one, other;
    int i, f, best = FT__SIMD_COUNT - 1;
    while (!ft__simd_available(best)) best -= 1;
    for (i = 0; i < PICTURES; ++i)
        if (!is_large(&pictures[i])) test_conv(plain, i, i % 2 == 0);
    for (i = 0; i < LINEARS; ++i) test_linear(plain, i, i % 2 == 0);
    for (f = 0; f < FORKS; ++f) forks[f] = model_in(names[1], best, fork_threads[f]);
    if (!forks[0]) SKIP("a processor with AVX512_BF16");
    for (i = 0; forks[0] && i < PICTURES; ++i) {
        test_conv(forks[1], i, true);
        test_conv(forks[1], i, false);
        test_conv_bits(forks, i);
        if (is_large(&pictures[i])) continue;
        random_state = 79;
        conv_start(&one, &pictures[i], 1, false);
        if (pictures[i].groups > 1 || !layer_prepare(&one, plain, false)) continue; /* float32 */
        layer_run(&one);
        random_state = 79;
        conv_start(&other, &pictures[i], 1, false);
        check_same(&other, forks[0], &one, 0, "conv beside the emulated one", i);
        layer_free(&one);
    }
    for (i = 0; forks[0] && i < LINEARS; ++i) {
        test_linear(forks[1], i, true);
        test_linear(forks[1], i, false);
        test_linear_bits(forks, i);
    }
    for (f = 0; forks[0] && f < FORKS; ++f) ft_destroy(forks[f]);
    ft_destroy(plain);
}

/* Rounding by bits against rounding by arithmetic: halves, what overflows, zeros, NaN. */
static void test_bf16_rounding(void)
{
    enum { COUNT = 4099 };
    static float from[COUNT], by_pairs[COUNT], other[COUNT];
    static uint16_t to[COUNT], again[COUNT];
    ft_model *m = model_in("bf16", FT__SIMD_AVX512, 1);
    int i, kind = FT__BF16;
    for (i = 0; i < COUNT; ++i)
        from[i] = ft__from_bits((uint32_t)random_bits() << 16 ^ (uint32_t)random_bits() * 40503u
                                ^ (i % 3 == 0 ? 0x8000u : 0));
    for (i = 0; i < COUNT; i += 5) from[i] = ft__from_bits(ft__bits(from[i]) & 0xffff8000u);
    for (i = 0; i < 64; ++i) from[i] = ft__from_bits((uint32_t)i << 18 | 1u); /* denormal */
    from[64] = -0.0f;
    from[65] = FLT_MAX;
    from[66] = ft__from_bits(0x7f800000u);
    from[67] = ft__from_bits(0x7f800001u);
    ft__bf16_rows[FT__BF16_EMULATED].round(from, COUNT, (float *)(void *)to);
    for (i = 0; i < COUNT; ++i) {
        float got = ft__from_bits((uint32_t)to[i] << 16);
        double want = fabs((double)from[i]) < (double)FLT_MIN ? 0 : rounded((double)from[i]);
        if (from[i] != from[i]) CHECK(got != got, "%d: NaN becomes %g", i, (double)got);
        else if (want > (double)FLT_MAX) CHECK(got > FLT_MAX, "%d: %g", i, (double)got);
        else if (want < -(double)FLT_MAX) CHECK(got < -FLT_MAX, "%d: %g", i, (double)got);
        else
            CHECK((double)got == want, "%a becomes %a, not %a", (double)from[i], (double)got,
                  want);
    }
    if (!m) SKIP("a processor with AVX512_BF16");
    else {
        ft_destroy(m);
        for (i = 0; i < 70; ++i) {
            size_t count = i < 69 ? (size_t)i : COUNT;
            memset(again, 1, sizeof again);
            ft__bf16_rows[kind].round(from, count, (float *)(void *)again);
            CHECK(memcmp(again, to, 2 * count) == 0 && (count == COUNT || again[count] == 0x101),
                  "round %d numbers", (int)count);
            ft__bf16_rows[FT__BF16_EMULATED].pair(from, from + 9, count > 69 ? 4000 : count,
                                                  by_pairs);
            ft__bf16_rows[kind].pair(from, from + 9, count > 69 ? 4000 : count, other);
            CHECK(memcmp(by_pairs, other, count > 69 ? 16000 : 4 * count) == 0, "pairs of %d",
                  (int)count);
        }
    }
}

static void test_precisions(void)
{
    ft_model *m = model_in("bf17", 0, 1);
    ft_desc desc;
    CHECK(!m, "a precision that there is not");
    memset(&desc, 0, sizeof desc);
    desc.precision = "bf17";
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "bf17"), "%s", ft_error_text(m));
    ft_destroy(m);
    desc.precision = "bf16";
    desc.simd = "none"; /* without the instruction */
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_UNSUPPORTED && strstr(ft_error_text(m), "bf16_emulated"), "%s",
          ft_error_text(m));
    ft_destroy(m);
    desc.precision = "float32";
    m = ft_create(desc);
    CHECK(ft_error(m) == FT_OK && m->context.precision == FT__FLOAT32, "%s", ft_error_text(m));
    ft_destroy(m);
}

int main(void)
{
    int level, i;
    for (level = 0; level < FT__SIMD_COUNT; ++level) {
        ft_model *forks[FORKS];
        if (!ft__simd_available(level)) {
            skip_level(ft__tiles[level].name);
            continue;
        }
        test_products(level);
        test_partition(level, 61, 1050, 300);
        test_partition(level, 11, 5, 1031);
        test_partition(level, 523, 67, 17);
        test_partition(level, 261, 400, 530);
        test_nan(level);
        for (i = 0; i < FORKS; ++i) forks[i] = model_at(level, fork_threads[i]);
        for (i = 0; i < PICTURES; ++i) test_conv(forks[1], i, true);
        for (i = 0; i < PICTURES; ++i) test_conv_bits(forks, i);
        for (i = 0; i < LINEARS; ++i) test_linear(forks[1], i, true);
        for (i = 0; i < LINEARS; ++i) test_linear_bits(forks, i);
        for (i = 0; i < FORKS; ++i) ft_destroy(forks[i]);
    }
    test_bf16_rounding();
    test_bf16();
    test_precisions();
    test_choice();
    test_refusals();
    test_linear_refusals();
    return check_done("test_gemm");
}
