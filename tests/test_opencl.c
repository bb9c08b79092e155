/* test_opencl.c - the training step on an OpenCL device: every case of test_operators.c against its
   naive loops, in each form of the matrix products; whole training steps against the processor's;
   and what happens where the device, its driver or its library fails.
       build/test_opencl [OPERATOR [CASE]]     repeats some alone
   The device is the first that OpenCL knows: PoCL, which runs kernels on the processor, will do. */
#define main operators_main
#include "test_operators.c"
#undef main

#ifdef FINETUNE_OPENCL

static char lines[16][300]; /* what was logged last */
static int line_count;

static void keep_line(void *user, const char *line)
{
    (void)user;
    snprintf(lines[line_count++ % 16], sizeof lines[0], "%s", line);
}

static bool was_said(const char *word)
{
    int i;
    for (i = 0; i < 16; ++i)
        if (strstr(lines[i], word)) return true;
    return false;
}

static ft_model *on(const char *device)
{
    ft_desc desc = {.threads = 2, .device = device, .log = keep_line, .seed = 3};
    memset(lines, 0, sizeof lines);
    return ft_create(desc);
}

/* ---- Operators ---- */

/* Dropout draws the same numbers as the processor: bit for bit. */
static void test_device_dropout(ft__context *c)
{
    enum { N = 1000 };
    static float x[N], y[2][N], dy[N], dx[2][N];
    ft__tensor input;
    ft__node node;
    ft__call call;
    int i, side;
    memset(&node, 0, sizeof node);
    memset(&call, 0, sizeof call);
    memset(&input, 0, sizeof input);
    for (i = 0; i < N; ++i) x[i] = dy[i] = (float)i - 300;
    node.op = FT__OP_dropout;
    node.name = (char *)(uintptr_t)"dropout";
    node.options.dropout.probability = 0.3f;
    input.shape = shape2(2, N / 2);
    input.value = x;
    call.context = c;
    call.node = &node;
    call.input = &input;
    call.input_count = 1;
    call.output.shape = input.shape;
    call.output.gradient = dy;
    call.training = true;
    call.random = 0x123456789ABCDEF0u;
    for (side = 0; side < 2; ++side) {
        call.output.value = y[side];
        input.gradient = dx[side];
        if (side) ft__run_operator(&call, false);
        else ft__dropout_forward(&call);
        if (side) ft__run_operator(&call, true);
        else ft__dropout_backward(&call);
    }
    ft__to_host(c, y[1], sizeof y[1]);
    ft__to_host(c, dx[1], sizeof dx[1]);
    CHECK(!memcmp(y[0], y[1], sizeof y[0]), "dropout: other values on the device");
    CHECK(!memcmp(dx[0], dx[1], sizeof dx[0]), "dropout: another gradient on the device");
}

static void run_cases(void)
{
    memset(numbers, 0, sizeof numbers);
    conv_cases();
    layer_cases();
    pool_cases();
    elementwise_cases();
    shape_cases();
    loss_cases();
}

static void test_forms(ft_model *m)
{
    static const int forms[] = {FT__FORM_WIDE, FT__FORM_TILED, FT__FORM_PLAIN};
    int i;
    contexts[0] = contexts[1] = contexts[2] = &m->context;
    for (i = 0; i < 3; ++i) {
        m->context.device->form = forms[i];
        if (i == 0) run_cases();
        else {
            memset(numbers, 0, sizeof numbers);
            conv_cases();
            layer_cases();
        }
        CHECK(ft_error(m) == FT_OK, "form %d: %s", forms[i], ft_error_text(m));
    }
    test_device_dropout(&m->context);
}

int main(int count, char **words)
{
    ft_model *m = on("opencl:0:0");
    if (count > 1) only_op = words[1];
    if (count > 2) only_case = atoi(words[2]);
    if (ft_error(m) == FT_UNSUPPORTED) {
        SKIP(ft_error_text(m));
        ft_destroy(m);
        return check_done("test_opencl");
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    if (ft_error(m) == FT_OK) test_forms(m);
    (void)was_said;
    ft_destroy(m);
    return check_done("test_opencl");
}

#else

int main(void)
{
    (void)operators_main;
    SKIP("built without OpenCL's headers");
    return check_done("test_opencl");
}

#endif
