/* test_layout.c - how values lie in memory does not show: random networks that mix operators which
   want pictures channels-last (conv2d, pooling, batch norm) with those which want rows (linear, matmul,
   layer norm), those which take either, and those which rearrange, against naive loops in double over
   the user's order, written here; gradients by central differences of these loops. Then: which steps
   a plan has, so that nothing is copied where it need not be.
       build/test_layout [NETWORK [DEVICE]]    one random network alone, described node by node */
#include "internals.h"
#include "check.h"

enum { MOST_NODES = 64, BATCH = 3, LENGTH = 5 };

static unsigned state = 1;

static int below(int n)
{
    state = state * 1664525u + 1013904223u;
    return (int)(state >> 16) % n;
}

static double number(void) { return below(20001) / 10000.0 - 1; }

/* ---- The oracle ---- */

static double *values[MOST_NODES]; /* by node id - 1 */
static int run_batch, run_length;

static ft_shape shape_of(const ft_model *m, int id)
{
    ft__extent size;
    size.batch = run_batch;
    size.length = run_length;
    return ft__with_extent(m->nodes[id - 1].shape, size);
}

static size_t count_of(const ft_shape *s)
{
    size_t count = 1;
    int d;
    for (d = 0; d < s->rank; ++d) count *= (size_t)s->size[d];
    return count;
}

static void split_index(const ft_shape *s, size_t k, int *at)
{
    int d;
    for (d = s->rank - 1; d >= 0; --d) {
        at[d] = (int)(k % (size_t)s->size[d]);
        k /= (size_t)s->size[d];
    }
}

static size_t index_of(const ft_shape *s, const int *at)
{
    size_t k = 0;
    int d;
    for (d = 0; d < s->rank; ++d) k = k * (size_t)s->size[d] + (size_t)at[d];
    return k;
}

static double convolve(const ft__node *node, const ft_shape *x, const ft_shape *w, const int *at)
{
    const double *v = values[node->inputs[0] - 1], *weight = values[node->inputs[1] - 1];
    double sum = node->input_count > 2 ? values[node->inputs[2] - 1][at[1]] : 0;
    int c, i, j;
    for (c = 0; c < w->size[1]; ++c)
        for (i = 0; i < w->size[2]; ++i)
            for (j = 0; j < w->size[3]; ++j) {
                int from[4] = {at[0], c, at[2] + i - node->options.conv2d.padding[0],
                               at[3] + j - node->options.conv2d.padding[1]};
                int of_weight[4] = {at[1], c, i, j};
                if (from[2] < 0 || from[2] >= x->size[2] || from[3] < 0 || from[3] >= x->size[3])
                    continue;
                sum += v[index_of(x, from)] * weight[index_of(w, of_weight)];
            }
    return sum;
}

/* One row along an axis: softmax or layer norm of element `at`. */
static double of_row(const ft__node *node, const ft_shape *x, const int *at, int axis, bool norm)
{
    const double *v = values[node->inputs[0] - 1];
    int place[6], i;
    double sum = 0, squares = 0, n = x->size[axis], own;
    memcpy(place, at, sizeof place);
    own = v[index_of(x, at)];
    for (i = 0; i < x->size[axis]; ++i) {
        place[axis] = i;
        sum += norm ? v[index_of(x, place)] : exp(v[index_of(x, place)]);
    }
    if (!norm) return exp(own) / sum;
    for (i = 0; i < x->size[axis]; ++i) {
        double d;
        place[axis] = i;
        d = v[index_of(x, place)] - sum / n;
        squares += d * d / n;
    }
    return (own - sum / n) / sqrt(squares + 1e-5) * values[node->inputs[1] - 1][at[axis]]
        + values[node->inputs[2] - 1][at[axis]];
}

static double product(const ft__node *node, const ft_shape *a, const ft_shape *b, const int *at)
{
    const ft_matmul_options *o = &node->options.matmul;
    int last = a->rank - 1, i, left[6], right[6];
    int inner = a->size[o->transpose_a ? last - 1 : last];
    double sum = 0;
    memcpy(left, at, sizeof left);
    memcpy(right, at, sizeof right);
    left[o->transpose_a ? last : last - 1] = at[last - 1];
    right[o->transpose_b ? last - 1 : last] = at[last];
    for (i = 0; i < inner; ++i) {
        left[o->transpose_a ? last - 1 : last] = i;
        right[o->transpose_b ? last : last - 1] = i;
        sum += values[node->inputs[0] - 1][index_of(a, left)]
            * values[node->inputs[1] - 1][index_of(b, right)];
    }
    return sum;
}

static double mean_of_window(const ft__node *node, const ft_shape *x, const int *at, int size)
{
    double sum = 0;
    int i, j, high = size ? size : x->size[2], wide = size ? size : x->size[3];
    for (i = 0; i < high; ++i)
        for (j = 0; j < wide; ++j) {
            int from[4] = {at[0], at[1], at[2] * high + i, at[3] * wide + j};
            sum += values[node->inputs[0] - 1][index_of(x, from)];
        }
    return sum / high / wide;
}

static double broadcast(const ft__node *node, const ft_shape *y, const ft_shape *b, const int *at)
{
    int of_b[6], d, skip = y->rank - b->rank;
    for (d = 0; d < b->rank; ++d) of_b[d] = b->size[d] == 1 ? 0 : at[d + skip];
    return values[node->inputs[1] - 1][index_of(b, of_b)];
}

static double apply_linear(const ft__node *node, const ft_shape *x, const int *at)
{
    int from[6], in = x->size[x->rank - 1], i;
    double sum = values[node->inputs[2] - 1][at[x->rank - 1]];
    memcpy(from, at, sizeof from);
    for (i = 0; i < in; ++i) {
        from[x->rank - 1] = i;
        sum += values[node->inputs[0] - 1][index_of(x, from)]
            * values[node->inputs[1] - 1][at[x->rank - 1] * in + i];
    }
    return sum;
}

/* A number of a node's value; the operator by its name. */
static double element(const ft_model *m, const ft__node *node, const ft_shape *y, size_t k)
{
    const char *op = ft__rows[node->op]->name;
    const double *x = values[node->inputs[0] - 1];
    ft_shape a = shape_of(m, node->inputs[0]), b = a;
    int at[6] = {0}, from[6], d;
    if (node->input_count > 1) b = shape_of(m, node->inputs[1]);
    split_index(y, k, at);
    memcpy(from, at, sizeof from);
    if (!strcmp(op, "tanh")) return tanh(x[k]);
    if (!strcmp(op, "silu")) return x[k] / (1 + exp(-x[k]));
    if (!strcmp(op, "reshape") || !strcmp(op, "flatten")) return x[k];
    if (!strcmp(op, "conv2d")) return convolve(node, &a, &b, at);
    if (!strcmp(op, "linear")) return apply_linear(node, &a, at);
    if (!strcmp(op, "matmul")) return product(node, &a, &b, at);
    if (!strcmp(op, "softmax"))
        return of_row(node, &a, at, ft__axis_of(node, a.rank), false);
    if (!strcmp(op, "layer_norm")) return of_row(node, &a, at, a.rank - 1, true);
    if (!strcmp(op, "avg_pool2d")) return mean_of_window(node, &a, at, 2);
    if (!strcmp(op, "global_avg_pool")) return mean_of_window(node, &a, at, 0);
    if (!strcmp(op, "add")) return x[k] + broadcast(node, y, &b, at);
    if (!strcmp(op, "mul")) return x[k] * broadcast(node, y, &b, at);
    if (!strcmp(op, "permute")) {
        for (d = 0; d < y->rank; ++d) from[node->options.permute.axes[d]] = at[d];
        return x[index_of(&a, from)];
    }
    if (!strcmp(op, "slice")) {
        for (d = 0; d < y->rank; ++d) from[d] += node->options.slice.start[d];
        return x[index_of(&a, from)];
    }
    if (!strcmp(op, "pad")) {
        for (d = 0; d < y->rank; ++d) {
            from[d] -= node->options.pad.before[d];
            if (from[d] < 0 || from[d] >= a.size[d]) return 0;
        }
        return x[index_of(&a, from)];
    }
    if (!strcmp(op, "concat")) {
        d = node->options.concat.axis;
        if (at[d] < a.size[d]) return x[index_of(&a, at)];
        from[d] -= a.size[d];
        return values[node->inputs[1] - 1][index_of(&b, from)];
    }
    if (!strcmp(op, "mse")) {
        double sum = 0;
        size_t count = count_of(&a), i;
        for (i = 0; i < count; ++i)
            sum += (x[i] - values[node->inputs[1] - 1][i]) * (x[i] - values[node->inputs[1] - 1][i]);
        return sum / (double)count;
    }
    CHECK(false, "no oracle for %s", op);
    return 0;
}

/* Computes the nodes from number `first` on; returns the loss. */
static double evaluate(const ft_model *m, int first)
{
    int i;
    for (i = first; i < m->node_count; ++i) {
        ft_shape y = shape_of(m, i + 1);
        size_t count = count_of(&y), k;
        if (ft__is_leaf(&m->nodes[i])) continue;
        for (k = 0; k < count; ++k) values[i][k] = element(m, &m->nodes[i], &y, k);
    }
    return values[m->loss.id - 1][0];
}

/* ---- Random networks ---- */

static ft_node pool[MOST_NODES]; /* values that may be read */
static int pool_count;

/* A value that fits: more often than not the newest. */
static ft_node any_of(ft_model *m, bool (*fits)(const ft_shape *))
{
    ft_node found[MOST_NODES], none = {0};
    int i, count = 0;
    for (i = 0; i < pool_count; ++i) {
        ft_shape s = ft_node_shape(m, pool[i]);
        if (fits(&s)) found[count++] = pool[i];
    }
    return count ? found[below(3) ? count - 1 : below(count)] : none;
}

static bool same_shape(const ft_shape *a, const ft_shape *b)
{
    return a->rank == b->rank && !memcmp(a->size, b->size, (size_t)a->rank * sizeof(int));
}

/* A node of the same shape as x, or x itself. */
static ft_node twin_of(ft_model *m, ft_node x)
{
    ft_shape want = ft_node_shape(m, x);
    ft_node found = x;
    int i;
    for (i = 0; i < pool_count; ++i) {
        ft_shape s = ft_node_shape(m, pool[i]);
        if (same_shape(&s, &want) && below(2)) found = pool[i];
    }
    return found;
}

static bool has_pixels(const ft_shape *s)
{
    return s->rank == 4 && s->size[1] > 0 && s->size[2] > 1 && s->size[3] > 1;
}

static bool ends_fixed(const ft_shape *s) { return s->size[s->rank - 1] > 1; }

static bool is_small(const ft_shape *s)
{
    int d, count = 1;
    for (d = 1; d < s->rank; ++d) count *= s->size[d] > 0 ? s->size[d] : LENGTH;
    return count <= 150;
}

static bool is_picture(const ft_shape *s) { return s->rank == 4 && is_small(s); }

/* A name that no node has: layers with parameters need one. */
static const char *new_name(void)
{
    static char name[20];
    static int count;
    snprintf(name, sizeof name, "n%d", ++count);
    return name;
}

static ft_node new_parameter(ft_model *m, int a, int b, int c)
{
    ft_parameter_options of_three = {.size = {a, b, c}}, of_four = {.size = {1, a, b, c}};
    return ft_parameter(m, new_name(), below(2) ? of_three : of_four);
}

static ft_node random_reshape(ft_model *m, ft_node x)
{
    ft_shape s = ft_node_shape(m, x);
    int size[3], d;
    for (d = 1; d < 4; ++d) size[d - 1] = s.size[d];
    if (s.rank == 3) { /* [N, A, B] as [N, A, B / 2, 2] */
        if (size[1] < 2 || size[1] % 2) return x;
        size[1] /= 2;
        size[2] = 2;
        return ft_reshape(m, NULL, x, 3, size);
    }
    if (below(2)) { /* [N, A, B, C] as [N, A, B * C] */
        if (size[1] < 0 || size[2] < 0) return x;
        size[1] *= size[2];
        return ft_reshape(m, NULL, x, 2, size);
    }
    if (size[0] < 0 || size[2] < 0) return x;
    d = size[0]; /* the sizes in another order, which moves no number */
    size[0] = size[2];
    size[2] = d;
    return ft_reshape(m, NULL, x, 3, size);
}

static ft_node random_product(ft_model *m, ft_node x)
{
    bool a = below(2);
    ft_node y = twin_of(m, x);
    return ft_matmul(m, NULL, x, y, (ft_matmul_options){.transpose_a = a, .transpose_b = !a});
}

static ft_node random_permute(ft_model *m, ft_node x)
{
    static const int orders[5][4] = {{0, 2, 1, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}, {0, 1, 3, 2},
                                     {0, 3, 2, 1}};
    return ft_permute(m, NULL, x, 4, orders[below(5)]);
}

static ft_node random_any(ft_model *m, ft_node x)
{
    ft_shape s = ft_node_shape(m, x);
    ft_slice_options slice = {.start = {0}};
    ft_pad_options pad = {.before = {0}};
    ft_node pair[2];
    int axis = 1 + below(3);
    pair[0] = x;
    pair[1] = twin_of(m, x);
    switch (below(9)) {
    case 0: return ft_activation(m, "tanh", NULL, x, (ft_activation_options){0});
    case 1: return ft_add(m, NULL, x, pair[1]);
    case 2: return ft_mul(m, NULL, x, pair[1]);
    case 3: return ft_activation(m, "softmax", NULL, x, (ft_activation_options){.axis = axis});
    case 4:
        if (s.size[axis] > 2) slice.start[axis] = 1;
        return ft_slice(m, NULL, x, slice);
    case 5:
        if (s.size[axis] > 0) pad.before[axis] = 1;
        return ft_pad(m, NULL, x, pad);
    case 6: return s.size[axis] > 0 ? ft_concat(m, NULL, 2, pair, axis) : x;
    case 7:
        if (s.size[1] < 0 || s.size[2] < 0 || s.size[3] < 0) return x;
        return ft_mul(m, NULL, x, new_parameter(m, s.size[1], s.size[2], s.size[3]));
    default: return s.size[1] > 0 ? ft_add(m, NULL, x, new_parameter(m, s.size[1], 1, 1)) : x;
    }
}

static ft_node random_step(ft_model *m, bool pictures)
{
    ft_node x = any_of(m, is_picture), y = any_of(m, has_pixels), z = any_of(m, ends_fixed);
    ft_node any = any_of(m, is_small);
    int channels = 2 + below(3);
    if (!x.id) return x;
    switch (below(pictures ? 11 : 7)) {
    case 0: return random_permute(m, x);
    case 1: return random_product(m, any);
    case 2: return random_reshape(m, any);
    case 3: return z.id ? ft_linear(m, new_name(), z, channels, (ft_linear_options){0}) : x;
    case 4: return z.id ? ft_layer_norm(m, new_name(), z, (ft_layer_norm_options){0}) : x;
    case 5: case 6: return random_any(m, x);
    case 7: return y.id ? ft_avg_pool2d(m, NULL, y, (ft_pool2d_options){.kernel = {2}}) : x;
    case 8: return y.id && !below(3) ? ft_global_avg_pool(m, NULL, y) : x;
    default: return y.id ? ft_conv2d(m, new_name(), y, channels, (ft_conv2d_options){
                                         .kernel = {3}, .padding = {1, 1, 1, 1}}) : x;
    }
}

static const char *device; /* NULL: the processor */

static ft_model *random_network(bool pictures)
{
    ft_model *m = ft_create((ft_desc){.threads = 2, .seed = 3, .device = device});
    ft_input_options in = {.size = {2 + below(2), 4, 3 + below(2)}}, target = {.size = {0}};
    ft_shape s;
    int steps = 3 + below(7), i;
    if (!pictures) in.size[1] = FT_LENGTH;
    if (!pictures && below(2)) in.size[0] = FT_LENGTH, in.size[1] = 2;
    pool[0] = ft_input(m, "input", in);
    pool[1] = ft_input(m, "other", in);
    pool_count = 1 + below(2);
    for (i = 0; i < steps && m->node_count < MOST_NODES - 8; ++i) {
        ft_node made = random_step(m, pictures);
        if (made.id > pool[pool_count - 1].id) pool[pool_count++] = made;
    }
    s = ft_node_shape(m, pool[pool_count - 1]);
    if (ft__is_leaf(&m->nodes[pool[pool_count - 1].id - 1]))
        pool[pool_count] = ft_activation(m, "tanh", NULL, pool[0], (ft_activation_options){0});
    else pool[pool_count] = ft_activation(m, "silu", NULL, pool[pool_count - 1],
                                          (ft_activation_options){0});
    s = ft_node_shape(m, pool[pool_count]);
    for (i = 1; i < s.rank; ++i) target.size[i - 1] = s.size[i];
    ft_set_output(m, pool[pool_count]);
    ft_set_loss(m, ft_mse(m, "loss", pool[pool_count], ft_input(m, "target", target)));
    return m;
}

static void describe(const ft_model *m)
{
    char text[80];
    int i, j;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        printf("%3d %-16s %-18s", i + 1, ft__rows[node->op]->name,
               ft__shape_text(&node->shape, text));
        for (j = 0; j < node->input_count; ++j) printf(" %d", node->inputs[j]);
        printf("%s%s%s", node->frozen ? ", frozen" : "", node->keep_value ? ", kept" : "",
               node->want_gradient ? ", its gradient is wanted" : "");
        if (node->layout.source) printf(", a view of %d", node->layout.source);
        printf("%s%s\n", ft__is_channels_last(node) ? ", channels-last" : "",
               node->layout.copy ? ", copied" : "");
    }
}

static void draw_values(ft_model *m)
{
    ft_shape s;
    float *given;
    size_t count, k;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft_node node = {i + 1};
        s = shape_of(m, i + 1);
        count = count_of(&s);
        values[i] = (double *)malloc(count * sizeof(double));
        given = (float *)malloc(count * sizeof(float));
        if (!values[i] || !given) exit(1);
        for (k = 0; k < count; ++k)
            values[i][k] = (double)(given[k] = (float)(number()
                                                       * (ft__is_weight(&m->nodes[i]) ? 0.5 : 1)));
        if (ft__is_input(&m->nodes[i])) ft_feed(m, node, given, run_batch);
        if (ft__is_weight(&m->nodes[i])) ft_set(m, node, given, count);
        free(given);
    }
}

static bool close_to(const float *got, const double *want, size_t count, double *largest)
{
    size_t i;
    for (i = 0; i < count; ++i)
        if (fabs(want[i]) > *largest) *largest = fabs(want[i]);
    for (i = 0; i < count; ++i)
        if (!CLOSE(got[i], want[i], 1e-4 * *largest)) return false;
    return true;
}

/* Each parameter's gradient by central differences, a few numbers of each. */
static void check_network_gradients(ft_model *m, int number_of)
{
    static float got[2000];
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft_node node = {i + 1};
        ft_shape s = shape_of(m, i + 1);
        size_t count = count_of(&s), k, bad = 0, at = 0;
        double largest = 0.1, wrong = 0; /* a gradient that is zero for certain is rounding */
        if (!m->nodes[i].want_gradient && (!ft__is_parameter(&m->nodes[i]) || !m->nodes[i].gradient))
            continue;
        memset(got, 0, sizeof got);
        if (!m->nodes[i].want_gradient || m->plans[1]->gradients[i]) /* else the loss does not read it */
            ft_get_gradient(m, node, got, count);
        for (k = 0; k < count; k += 1 + count / 7) {
            double kept = values[i][k], slope;
            values[i][k] = kept + 1e-5;
            slope = evaluate(m, i + 1);
            values[i][k] = kept - 1e-5;
            slope = (slope - evaluate(m, i + 1)) / 2e-5;
            values[i][k] = kept;
            if (fabs(slope) > largest) largest = fabs(slope);
            if (CLOSE(got[k], slope, 1e-3 * largest)) continue;
            wrong = slope;
            at = k;
            bad += 1;
        }
        CHECK(bad == 0, "network %d: %d numbers of the gradient of node %d are wrong: [%d] is %g, not"
              " %g", number_of, (int)bad, i + 1, (int)at, (double)got[at], wrong);
        evaluate(m, i + 1);
    }
}

/* Nodes that are read after a run, and whose gradients are wanted. */
static void ask_for_nodes(ft_model *m)
{
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft_node node = {i + 1};
        bool leaf = ft__is_leaf(&m->nodes[i]), input = ft__is_input(&m->nodes[i]);
        if (!leaf && below(6) == 0) ft_keep(m, node);
        if ((input || !leaf) && below(6) == 0 && node.id != m->loss.id) ft_want_gradient(m, node);
    }
}

static void check_kept(ft_model *m, int number_of, const char *when)
{
    static float got[20000];
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft_node node = {i + 1};
        ft_shape s = shape_of(m, i + 1);
        double largest = 1e-3;
        if (!m->nodes[i].keep_value) continue;
        ft_get(m, node, got, count_of(&s));
        CHECK(close_to(got, values[i], count_of(&s), &largest), "network %d: node %d, kept%s",
              number_of, i + 1, when);
    }
}

static void check_network(int number_of, bool tell)
{
    static float y[20000];
    bool pictures = number_of % 3 != 2;
    ft_model *m;
    int i, run;
    state = (unsigned)number_of * 7919u + 1;
    m = random_network(pictures);
    CHECK(ft_error(m) == FT_OK, "network %d: %s", number_of, ft_error_text(m));
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_parameter(&m->nodes[i]) && below(3) == 0) ft_freeze(m, m->nodes[i].name);
    if (number_of % 2) ask_for_nodes(m);
    for (run = 0; run < 2 && ft_error(m) == FT_OK; ++run) { /* a whole batch, and a part of one */
        double want, largest = 1e-3;
        float loss;
        ft_shape s;
        run_batch = BATCH - run;
        run_length = LENGTH - 2 * run;
        ft_set_length(m, run_length);
        draw_values(m);
        want = evaluate(m, 0);
        s = shape_of(m, m->output.id);
        ft_forward(m, false);
        ft_get(m, m->output, y, count_of(&s));
        CHECK(close_to(y, values[m->output.id - 1], count_of(&s), &largest),
              "network %d, batch %d: the output", number_of, run_batch);
        check_kept(m, number_of, "");
        loss = ft_forward(m, true);
        CHECK(CLOSE(loss, want, 1e-4 * fabs(want)), "network %d, batch %d: the loss is %g, not %g",
              number_of, run_batch, (double)loss, want);
        ft_get(m, m->output, y, count_of(&s));
        CHECK(close_to(y, values[m->output.id - 1], count_of(&s), &largest),
              "network %d, batch %d: the output in training", number_of, run_batch);
        check_kept(m, number_of, " in training");
        if (ft_error(m) == FT_OK && m->plans[1]->first_trained < m->plans[1]->step_count) {
            ft__zero_gradients(m);
            ft_backward(m);
            check_network_gradients(m, number_of);
        }
        if (tell && run == 0) describe(m);
        for (i = 0; i < m->node_count; ++i) free(values[i]);
    }
    CHECK(ft_error(m) == FT_OK, "network %d: %s", number_of, ft_error_text(m));
    ft_destroy(m);
}

/* ---- Steps ---- */

/* Counts a plan's copies, and calls of an operator; NULL: of any. */
static int count_copies(const ft__plan *plan)
{
    int i, count = 0;
    for (i = 0; i < plan->step_count; ++i) count += plan->steps[i].copies;
    return count;
}

static int count_calls(const ft_model *m, const ft__plan *plan, const char *op)
{
    int i, count = 0;
    for (i = 0; i < plan->step_count; ++i)
        count += !plan->steps[i].copies
            && (!op || !strcmp(ft__rows[m->nodes[plan->steps[i].id - 1].op]->name, op));
    return count;
}

static ft__plan *new_plan(ft_model *m, bool training)
{
    const ft__extent two = {2, 4};
    ft__plan *plan = ft__plan_make(m, two, training, true);
    CHECK(plan && ft_error(m) == FT_OK, "%s", ft_error_text(m));
    if (!plan) exit(1);
    return plan;
}

/* A CNN is channels-last throughout: it is fed so, and nothing is copied. */
static void test_ready_made(void)
{
    static const char *const networks[] = {"resnet18", "resnet20", "mobilenet_v1", "keras_cnn"};
    size_t i;
    int training;
    for (i = 0; i < sizeof networks / sizeof networks[0]; ++i) {
        ft_model *m = ft_create((ft_desc){.threads = 1});
        ft_network(m, networks[i], (ft_network_options){.classes = 3});
        for (training = 0; training < 2; ++training) {
            ft__plan *plan = new_plan(m, training);
            int copies = count_copies(plan) + count_calls(m, plan, "flatten")
                + count_calls(m, plan, "reshape") + count_calls(m, plan, "permute");
            CHECK(copies == 0, "%s: %d values are copied in another layout", networks[i], copies);
            ft__plan_free(&m->context, plan);
        }
        ft_destroy(m);
    }
}

static ft_node heads(ft_model *m, const char *name, ft_node x, bool turned)
{
    const int size[] = {FT_LENGTH, 2, 3}, in_heads[] = {0, 2, 1, 3}, for_keys[] = {0, 2, 3, 1};
    x = ft_reshape(m, NULL, ft_linear(m, name, x, 6, (ft_linear_options){0}), 3, size);
    return ft_permute(m, NULL, x, 4, turned ? for_keys : in_heads);
}

/* Attention with heads: four linear layers, two products and a softmax, and nothing else. Keys may be
   permuted to [N, heads, D, L] or be multiplied transposed. */
static void test_attention_steps(void)
{
    const int size[] = {FT_LENGTH, 6}, back[] = {0, 2, 1, 3};
    int turned, training;
    for (turned = 0; turned < 2; ++turned) {
        ft_model *m = ft_create((ft_desc){.threads = 1});
        ft_node x = ft_input(m, "input", (ft_input_options){.size = {FT_LENGTH, 6}}), y;
        y = ft_matmul(m, NULL, heads(m, "q", x, false), heads(m, "k", x, turned),
                      (ft_matmul_options){.transpose_b = !turned});
        y = ft_activation(m, "softmax", NULL, y, (ft_activation_options){0});
        y = ft_matmul(m, NULL, y, heads(m, "v", x, false), (ft_matmul_options){0});
        y = ft_reshape(m, NULL, ft_permute(m, NULL, y, 4, back), 2, size);
        y = ft_linear(m, "out", y, 6, (ft_linear_options){0});
        ft_set_output(m, y);
        ft_set_loss(m, ft_mse(m, NULL, y, ft_input(m, "target", (ft_input_options){
                                                                    .size = {FT_LENGTH, 6}})));
        for (training = 0; training < 2; ++training) {
            ft__plan *plan = new_plan(m, training);
            CHECK(count_copies(plan) == 0 && count_calls(m, plan, NULL) == 8
                      && count_calls(m, plan, "linear") == 4 && count_calls(m, plan, "matmul") == 2,
                  "attention: %d copies, %d steps", count_copies(plan),
                  count_calls(m, plan, NULL));
            ft__plan_free(&m->context, plan);
        }
        ft_destroy(m);
    }
}

/* Where neighbours differ there is one copy, however many read it; an input is fed as its readers
   want it; a permute to or from channels-last is no step. */
static void test_copies(void)
{
    const int to_rows[] = {0, 2, 3, 1}, to_pictures[] = {0, 3, 1, 2};
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_conv2d_options three = {.kernel = {3}};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {5, 6, 3}}), y, z;
    ft__plan *plan;
    x = ft_permute(m, NULL, x, 4, to_pictures);
    x = ft_conv2d(m, "conv", x, 4, three);
    y = ft_layer_norm(m, "norm", ft_permute(m, NULL, x, 4, to_rows), (ft_layer_norm_options){0});
    ft_set_output(m, y);
    plan = new_plan(m, false);
    CHECK(count_copies(plan) == 0 && count_calls(m, plan, NULL) == 2,
          "pictures in rows, a convolution, a norm of its channels: %d copies, %d steps",
          count_copies(plan), count_calls(m, plan, NULL));
    ft__plan_free(&m->context, plan);
    y = ft_linear(m, "a", x, 2, (ft_linear_options){0});
    z = ft_linear(m, "b", x, 2, (ft_linear_options){0});
    ft_set_output(m, ft_conv2d(m, "last", ft_add(m, NULL, y, z), 2, (ft_conv2d_options){
                                                                        .kernel = {1}}));
    plan = new_plan(m, false);
    CHECK(count_copies(plan) == 2 && count_calls(m, plan, NULL) == 5,
          "one copy for two linear layers, one back: %d copies, %d steps", count_copies(plan),
          count_calls(m, plan, NULL));
    ft__plan_free(&m->context, plan);
    ft_destroy(m);
}

/* An input that was fed is as it was when the network that reads it changes, and its layout. */
static void test_fed_before(void)
{
    static float x[2 * 3 * 4 * 5], y[2 * 3 * 4 * 5];
    ft_model *m = ft_create((ft_desc){.threads = 1});
    ft_node in = ft_input(m, "input", (ft_input_options){.size = {3, 4, 5}});
    size_t count = sizeof x / sizeof x[0], i;
    for (i = 0; i < count; ++i) x[i] = (float)i;
    ft_set_output(m, ft_activation(m, "relu", "relu", in, (ft_activation_options){0}));
    ft_feed(m, in, x, 2);
    CHECK(!ft__is_channels_last(ft__get_node(m, in)), "nobody wants it channels-last");
    ft_forward(m, false);
    ft_set_output(m, ft_conv2d(m, "conv", in, 2, (ft_conv2d_options){.kernel = {3}}));
    ft__plan_free(&m->context, new_plan(m, false));
    CHECK(ft__is_channels_last(ft__get_node(m, in)), "a convolution does");
    ft_get(m, in, y, count);
    CHECK(ft_error(m) == FT_OK && !memcmp(x, y, sizeof x), "the input changed: %s",
          ft_error_text(m));
    ft_destroy(m);
}

/* An autoencoder whose output is in rows, and whose targets, the input, are channels-last: the mean
   squared error that ft_evaluate sums up is the loss. */
static void test_paired_values(void)
{
    static float x[5 * 2 * 4 * 3];
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 2});
    ft_node in = ft_input(m, "input", (ft_input_options){.size = {2, 4, 3}}), y;
    ft_evaluation e;
    ft_metrics metrics;
    size_t i;
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)number();
    y = ft_conv2d(m, "conv", in, 2, (ft_conv2d_options){.kernel = {3}, .padding = {1, 1, 1, 1}});
    y = ft_linear(m, "linear", y, 3, (ft_linear_options){0});
    ft_set_output(m, y);
    ft_set_loss(m, ft_mse(m, "loss", y, in));
    e = ft_evaluate(m, ft_arrays(m, 5, x, NULL, (ft_array_options){0}), (ft_evaluate_options){.metrics = &metrics});
    CHECK(ft_error(m) == FT_OK && e.regression, "%s", ft_error_text(m));
    CHECK(CLOSE(metrics.of[FT_METRIC_R2].value, e.r2, 1e-9) && !metrics.of[FT_METRIC_PEARSON].known, "R2 %g, not %g",
          metrics.of[FT_METRIC_R2].value, e.r2);
    CHECK(ft__is_channels_last(ft__get_node(m, in)) && !ft__is_channels_last(ft__get_node(m, y)),
          "the layouts are those that this test is about");
    CHECK(CLOSE(e.mse, e.loss, 1e-6), "the mean squared error is %g, the loss %g", e.mse, e.loss);
    ft_destroy(m);
}

/* Head-only training where a view of the frozen layers' output, or its copy in another layout, is what
   the trained layers read: the cache of frozen outputs changes no bit. */
static void test_cached_prefix(void)
{
    enum { COUNT = 12, WEIGHTS = 2 * 4 + 2 };
    static float x[COUNT * 2 * 4 * 4], weights[2][WEIGHTS];
    static int labels[COUNT];
    const int to_rows[] = {0, 2, 3, 1}, size[] = {-1, 4};
    int how, cached;
    size_t i;
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)number();
    for (i = 0; i < COUNT; ++i) labels[i] = (int)i % 2;
    for (how = 0; how < 3; ++how) {
        for (cached = 0; cached < 2; ++cached) {
            ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 6});
            ft_node y = ft_input(m, "input", (ft_input_options){.size = {2, 4, 4}}), w;
            y = ft_conv2d(m, "conv", y, 3, (ft_conv2d_options){.kernel = {3},
                                                              .padding = {1, 1, 1, 1}});
            if (how == 1) y = ft_permute(m, NULL, y, 4, to_rows);  /* [N, 4, 4, 3], a view */
            if (how == 2) y = ft_reshape(m, NULL, y, 2, size);      /* [N, 12, 4], rearranged */
            w = ft_linear(m, "head", y, 2, (ft_linear_options){0}); /* 0: of a copy */
            y = ft_slice(m, NULL, ft_flatten(m, NULL, w), (ft_slice_options){.stop = {0, 2}});
            ft_set_output(m, y);
            ft_set_loss(m, ft_cross_entropy(m, "loss", y, ft_input(m, "labels",
                        (ft_input_options){.type = FT_I32}), (ft_loss_options){0}));
            ft_freeze(m, "conv.*");
            ft_fit(m, ft_arrays(m, COUNT, x, labels, (ft_array_options){0}),
                   (ft_fit_options){.epochs = 3, .batch_size = 5, .no_cache = !cached,
                                    .optimizer = {.learning_rate = 0.1f}});
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            i = how == 1 ? 6 : 8;
            ft_get(m, ft_find(m, "head.weight"), weights[cached], i);
            ft_get(m, ft_find(m, "head.bias"), weights[cached] + i, 2);
            ft_destroy(m);
        }
        CHECK(!memcmp(weights[0], weights[1], sizeof weights[0]), "network %d: other bits", how);
    }
}

#ifdef FINETUNE_OPENCL
static void open_device(void) { ft_destroy(ft_create((ft_desc){.device = "opencl:0:0"})); }

/* Some of the random networks on OpenCL's first device. */
static void test_on_device(void)
{
    ft_model *m = NULL;
    bool there = check_survives(open_device);
    int i;
    if (there) m = ft_create((ft_desc){.device = "opencl:0:0"});
    if (!there || ft_error(m) == FT_UNSUPPORTED) SKIP("no OpenCL device");
    else for (device = "opencl:0:0", i = 0; i < 60; ++i) check_network(i, false);
    ft_destroy(m);
    device = NULL;
}
#else
static void test_on_device(void) { SKIP("built without OpenCL's headers"); }
#endif

int main(int count, char **words)
{
    int i;
    if (count > 2) device = words[2];
    if (count > 1 && strcmp(words[1], "all") != 0) check_network(atoi(words[1]), true);
    for (i = 0; (count <= 1 || !strcmp(words[1], "all")) && i < 300; ++i) check_network(i, false);
    if (count <= 1) {
        test_ready_made();
        test_attention_steps();
        test_copies();
        test_fed_before();
        test_paired_values();
        test_cached_prefix();
        test_on_device();
    }
    return check_done("test_layout");
}
