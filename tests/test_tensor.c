/* test_tensor.c - products on tensor cores (ft_desc.precision "tf32" and "bf16" on a device), with
   the matrix instructions emulated in local memory: the tiles, fragments and edges are those that a
   GPU runs. Every case of test_operators.c with suitable channels runs with numbers that tf32 and
   bf16 hold exactly, so the tolerance is that of float32. Then the rounding of other numbers is
   compared bit for bit with rounding done here. Without such cores the log must say so.
       build/test_tensor [OPERATOR [CASE]]     repeats some alone; --brief: one case of each kernel
   NVIDIA's assembler checks that the instructions themselves are valid (test_ptx.sh). */
#define FINETUNE_EMULATE_MMA
#define main operators_main
#include "test_operators.c"
#undef main

#ifdef FINETUNE_OPENCL
static char said[300];

static void keep_line(void *user, const char *line)
{
    (void)user;
    if (strstr(line, "precision")) snprintf(said, sizeof said, "%s", line);
}

static ft_model *on(const char *device, const char *precision)
{
    ft_desc desc = {.threads = 2, .device = device, .precision = precision, .log = keep_line};
    said[0] = 0;
    return ft_create(desc);
}

/* The products' operators with the cases that fill tiles: linear and convolutions. */
static void run_one(const char *op, int number)
{
    memset(numbers, 0, sizeof numbers);
    only_op = op;
    only_case = number;
    conv_cases();
    layer_cases();
}

static void test_cases(ft_model *m, bool brief, const char *op, int number)
{
    contexts[0] = contexts[1] = contexts[2] = &m->context;
    m->context.device->unchecked = true;
    m->context.device->form = FT__FORM_TENSOR;
    few_bits = true;
    briefly = brief;
    only_form = brief ? ONE_OF_FOURS : FOURS;
    run_one(brief ? "conv2d" : op, number);
    few_bits = briefly = false;
    only_form = ALL_FORMS;
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
}

/* ---- Rounding ---- */

/* To the nearest number of `bits` bits; halves away from zero (tf32) or to even (bf16). */
static float rounded(float x, int bits, bool to_even)
{
    int exponent;
    double fraction = frexp((double)x, &exponent), scaled = ldexp(fraction, bits);
    double low = floor(scaled), rest = scaled - low;
    if (rest > 0.5 || (rest == 0.5 && (to_even ? fmod(low, 2) != 0 : low >= 0))) low += 1;
    return (float)ldexp(low, exponent - bits);
}

/* y = x w of one product each: 8 numbers x, 12 weights, of which only w[i][i % 8] is not zero. */
static void test_rounding(ft_model *m, int bits, bool to_even)
{
    enum { ROWS = 40, IN = 8, OUT = 12 };
    static float x[ROWS * IN], w[OUT * IN], y[ROWS * OUT];
    ft__tensor input[2];
    ft__node node;
    ft__call call;
    unsigned state = 99;
    int i, o, row, wrong = 0;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(input, 0, sizeof input);
    for (i = 0; i < ROWS * IN; ++i) x[i] = (float)random_value(&state);
    for (i = 0; i < IN; ++i) { /* halves, the largest, and what is no number */
        x[i] = (float)(1 + (2 * i + 1) * ldexp(1, -bits)) * (float)(i % 2 ? -1 : 1);
        w[i * IN + i] = 1;
    }
    x[IN] = 1e38f;
    x[IN + 1] = -1e-30f;
    for (o = IN; o < OUT; ++o) w[o * IN + o - IN] = 0.625f;
    node.op = FT__OP_linear;
    node.name = (char *)(uintptr_t)"linear";
    input[0].shape = shape2(ROWS, IN);
    input[1].shape = shape2(OUT, IN);
    input[0].value = x;
    input[1].value = w;
    call.context = &m->context;
    call.node = &node;
    call.input = input;
    call.input_count = 2;
    call.output.shape = shape2(ROWS, OUT);
    call.output.value = y;
    ft__run_operator(&call, false);
    ft__to_host(&m->context, y, sizeof y);
    for (row = 0; row < ROWS; ++row)
        for (o = 0; o < OUT; ++o) {
            float want = rounded(x[row * IN + o % IN], bits, to_even) * (o < IN ? 1 : 0.625f);
            if (!(y[row * OUT + o] == want)) ++wrong;
        }
    CHECK(wrong == 0, "%d bits: %d of %d numbers are rounded otherwise", bits, wrong, ROWS * OUT);
    x[3] = NAN;
    x[IN * 2 + 1] = INFINITY;
    ft__host_wrote(&m->context, x);
    ft__run_operator(&call, false);
    ft__to_host(&m->context, y, sizeof y);
    CHECK(y[3] != y[3] && y[2 * OUT + 1] == INFINITY, "%d bits: NaN became %g, infinity %g", bits,
          (double)y[3], (double)y[2 * OUT + 1]);
}

/* ---- The check takes the form, and refuses a wrong one ---- */

/* A convolution's value, gradients left aside, after the check; true: it runs on tensor cores. */
static bool chosen(ft_model *m, float *error)
{
    ft_input_options picture = {.size = {8, 6, 5}};
    ft_conv2d_options conv = {.kernel = {3}, .padding = {1}};
    ft_device_check checks[4];
    static float x[2 * 8 * 6 * 5], y[2 * 12 * 6 * 5];
    unsigned state = 3;
    size_t i;
    int count;
    ft_node in = ft_input(m, "input", picture);
    for (i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = (float)random_value(&state);
    ft_set_output(m, ft_conv2d(m, "conv", in, 12, conv));
    ft_run(m, x, 2, y, sizeof y / sizeof y[0]);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    memset(checks, 0, sizeof checks);
    CHECK(ft_device_checks(m, checks, 0) > 0 && !checks[0].choice, "of none wanted one is written");
    count = ft_device_checks(m, checks, 4);
    *error = count > 0 ? checks[0].error : 1;
    return count > 0 && !strcmp(checks[0].choice, "tensor");
}

static void test_precision(const char *precision, int bits, float least, bool brief,
                           const char *op, int number)
{
    ft_model *m = on("opencl:0:0", precision);
    float error;
    CHECK(ft_error(m) == FT_OK && !said[0], "%s: %s %s", precision, ft_error_text(m), said);
    if (ft_error(m) == FT_OK) {
        test_cases(m, brief, op, number);
        if (!op && ft_error(m) == FT_OK) test_rounding(m, bits, bits == 8);
    }
    ft_destroy(m);
    if (op || brief) return;
    m = on("opencl:0:0", precision);
    CHECK(chosen(m, &error), "%s: the check chooses another form", precision);
    CHECK(error > least && error < 20 * least, "%s: apart by %g", precision, (double)error);
    ft_destroy(m);
}

/* ---- Where there are none ---- */

static void test_elsewhere(void)
{
    ft_model *m = on(NULL, "tf32");
    CHECK(ft_error(m) == FT_OK && strstr(said, "precision tf32 needs an NVIDIA GPU"), "%s", said);
    ft_destroy(m);
    m = on("opencl:0:0", NULL);
    CHECK(ft_error(m) == FT_OK && !said[0] && !ft__tensor_type(&m->context), "%s", said);
    ft_destroy(m);
}

static void open_device(void) { ft_destroy(on("opencl:0:0", NULL)); }

int main(int count, char **words)
{
    bool brief = count > 1 && !strcmp(words[1], "--brief");
    const char *op = count > 1 && !brief ? words[1] : NULL;
    int number = count > 2 ? atoi(words[2]) : -1;
    ft_model *m;
    if (!check_survives(open_device)) {
        SKIP("the OpenCL driver ends the process here");
        return check_done("test_tensor");
    }
    m = on("opencl:0:0", NULL);
    if (ft_error(m) == FT_UNSUPPORTED) {
        SKIP(ft_error_text(m));
        ft_destroy(m);
        return check_done("test_tensor");
    }
    ft_destroy(m);
    test_precision("tf32", 11, 1e-4f, brief, op, number);
    test_precision("bf16", 8, 8e-4f, brief, op, number);
    if (!op && !brief) test_elsewhere();
    return check_done("test_tensor");
}

#else

int main(void)
{
    (void)operators_main;
    SKIP("built without OpenCL's headers");
    return check_done("test_tensor");
}

#endif
