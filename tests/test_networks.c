/* test_networks.c - ready-made networks: the published number of parameters, recognition from
   weights alone, and initial values as PyTorch's and Keras' defaults draw them. */
#include "public.h"

static ft_model *build(const char *name, ft_network_options options, uint64_t seed)
{
    ft_desc desc = {.seed = seed};
    ft_model *m = ft_create(desc);
    ft_network(m, name, options);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static size_t parameters(const ft_model *m)
{
    size_t sum = 0;
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        if (is_parameter(m, node)) sum += numbers_of(m, node);
    return sum;
}

/* Writes the weights alone, as a published file has them, and loads that. */
static void recognise(ft_model *m, const char *name, ft_network_options options)
{
    const char *path = "build/test_networks.safetensors";
    ft_load_options load = {.network = {.image_size = options.image_size}};
    ft_desc desc = {.seed = 1};
    ft_model *again = ft_create(desc);
    write_weights(m, path, false, NULL);
    ft_load(again, path, load);
    CHECK(ft_error(again) == FT_OK, "%s: %s", name, ft_error_text(again));
    CHECK(!strcmp(ft_architecture(again), name), "%s recognised as %s", name, ft_architecture(again));
    CHECK(ft_class_count(again) == ft_class_count(m) && parameters(again) == parameters(m),
          "%s: %d classes, %zu parameters", name, ft_class_count(again), parameters(again));
    ft_destroy(again);
    remove(path);
}

static void test_published(const char *name, size_t count, ft_network_options options)
{
    ft_model *m = build(name, options, 1);
    CHECK(parameters(m) == count, "%s: %zu parameters, published with %zu", name, parameters(m),
          count);
    recognise(m, name, options);
    ft_destroy(m);
}

/* Mean, variance and bound of a parameter's first values. */
static void statistics(ft_model *m, const char *name, double *mean, double *variance, double *bound)
{
    float *values = weight_of(m, ft_find(m, name));
    size_t count = numbers_of(m, ft_find(m, name)), i;
    double sum = 0, squares = 0;
    *bound = 0;
    for (i = 0; i < count; ++i) {
        double v = (double)values[i];
        sum += v;
        squares += v * v;
        if (fabs(v) > *bound) *bound = fabs(v);
    }
    *mean = sum / (double)count;
    *variance = squares / (double)count - *mean * *mean;
    free(values);
}

static void test_initialisers(void)
{
    ft_network_options none = {.classes = 0};
    ft_model *m = build("resnet18", none, 1), *k = build("keras_cnn", none, 1);
    double mean, variance, bound, b;
    statistics(m, "layer3.1.conv2.weight", &mean, &variance, &bound); /* N(0, 2 / fan_out) */
    CHECK(fabs(mean) < 1e-3 && CLOSE(variance, 2.0 / (256 * 9), 2e-5), "%g %g", mean, variance);
    CHECK(bound > 3.5 * sqrt(2.0 / (256 * 9)), "a normal has tails: %g", bound);
    statistics(m, "fc.weight", &mean, &variance, &bound); /* U(-b, b), b = 1 / sqrt(fan_in) */
    b = 1 / sqrt(512.0);
    CHECK(bound <= b && bound > 0.99 * b && CLOSE(variance, b * b / 3, 0.02 * b * b), "%g %g", bound,
          variance);
    statistics(m, "fc.bias", &mean, &variance, &bound);
    CHECK(bound <= b && bound > 0.9 * b, "%g", bound);
    statistics(m, "bn1.weight", &mean, &variance, &bound);
    CHECK(mean == 1 && variance == 0, "%g %g", mean, variance);
    statistics(k, "conv3.weight", &mean, &variance, &bound); /* Glorot: 6 / (fan_in + fan_out) */
    b = sqrt(6.0 / (64 * 9 + 128 * 9));
    CHECK(bound <= b && bound > 0.99 * b && CLOSE(variance, b * b / 3, 0.02 * b * b), "%g %g", bound,
          variance);
    statistics(k, "conv3.bias", &mean, &variance, &bound);
    CHECK(bound == 0, "Keras' biases are zero: %g", bound);
    ft_destroy(m);
    ft_destroy(k);
}

/* The same seed gives the same values, another seed others, whatever else the network has. */
static void test_seeds(void)
{
    ft_network_options small = {.classes = 3}, large = {.classes = 3, .image_size = 64};
    ft_model *m[4] = {build("resnet20", small, 5), build("resnet20", large, 5),
                      build("resnet20", small, 6), build("resnet32", small, 5)};
    const char *name = "layer2.0.conv1.weight";
    size_t bytes = 32 * 16 * 9 * sizeof(float);
    float *values[4];
    int i;
    for (i = 0; i < 4; ++i) values[i] = weight_of(m[i], ft_find(m[i], name));
    CHECK(!memcmp(values[0], values[1], bytes), "same seed");
    CHECK(memcmp(values[0], values[2], bytes), "another seed");
    CHECK(!memcmp(values[0], values[3], bytes), "another network");
    for (i = 0; i < 4; ++i) {
        free(values[i]);
        ft_destroy(m[i]);
    }
}

static void test_errors(void)
{
    ft_network_options none = {.classes = 0}, bad = {.classes = -1};
    ft_desc desc = {.seed = 1};
    ft_model *m = ft_create(desc);
    ft_network(m, "resnet19", none);
    CHECK(ft_error(m) == FT_INVALID && strstr(ft_error_text(m), "resnet18"), "%s", ft_error_text(m));
    ft_clear_error(m);
    ft_network(m, "resnet18", bad);
    CHECK(ft_error(m) == FT_INVALID, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* ---- Pictures so large that every sum is made in several parts: each SIMD level against plain
   loops, whose convolutions are parted in another way ---- */
enum { PICTURES = 5, EDGE = 96, NUMBERS = 3 * EDGE * EDGE, MOST_GRADIENTS = 4096 };

static ft_node norm_and_relu6(ft_model *m, const char *name, ft_node x)
{
    ft_batch_norm_options norm = {.eps = 0};
    ft_activation_options none = {.slope = 0};
    return ft_activation(m, "relu6", NULL, ft_batch_norm(m, name, x, norm), none);
}

/* All gradients of one step; how many there are. Destroys the model. */
static size_t large_gradients(ft_model *m, float *to)
{
    static float pictures[PICTURES * NUMBERS];
    ft_conv2d_options first = {.kernel = {3}, .stride = {2}, .same = true};
    ft_conv2d_options depthwise = {.kernel = {3}, .groups = 8, .same = true};
    ft_conv2d_options mixing = {.kernel = {1}};
    ft_input_options picture = {.size = {3, EDGE, EDGE}}, label = {.type = FT_I32};
    ft_linear_options linear = {.no_bias = false};
    ft_loss_options loss = {.label_smoothing = 0};
    const int32_t labels[PICTURES] = {0, 2, 1, 1, 0};
    ft_node x = ft_input(m, "input", picture), node;
    size_t count = 0, i;
    x = norm_and_relu6(m, "first_norm", ft_conv2d(m, "first", x, 8, first));
    x = norm_and_relu6(m, "depthwise_norm", ft_conv2d(m, "depthwise", x, 8, depthwise));
    x = norm_and_relu6(m, "mixing_norm", ft_conv2d(m, "mixing", x, 16, mixing));
    x = ft_linear(m, "fc", ft_flatten(m, NULL, ft_global_avg_pool(m, NULL, x)), 3, linear);
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", label), loss));
    for (i = 0; i < PICTURES * NUMBERS; ++i)
        pictures[i] = (float)((i * 2654435761u >> 7) % 1000) / 500.0f - 1;
    ft_feed(m, ft_find(m, "input"), pictures, PICTURES);
    ft_feed(m, ft_find(m, "labels"), labels, PICTURES);
    ft_forward(m, true);
    ft_backward(m);
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        size_t some = numbers_of(m, node);
        if (!is_parameter(m, node) || count + some > MOST_GRADIENTS) continue;
        ft_get_gradient(m, node, to + count, some);
        count += some;
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    return count;
}

static ft_model *model_on(const char *level)
{
    ft_desc desc = {.seed = 5, .threads = 2, .simd = level};
    return ft_create(desc);
}

static void test_large_pictures(void)
{
    static const char *const levels[] = {"sse2", "avx2", "avx512", "neon"};
    static float want[MOST_GRADIENTS], got[MOST_GRADIENTS];
    size_t count = large_gradients(model_on("none"), want), i, k;
    for (k = 0; k < sizeof levels / sizeof levels[0]; ++k) {
        ft_model *m = model_on(levels[k]);
        double worst = 0;
        if (ft_error(m) == FT_UNSUPPORTED) {
            skip_level(levels[k]);
            ft_destroy(m);
            continue;
        }
        CHECK(large_gradients(m, got) == count && count > 500, "%zu gradients", count);
        for (i = 0; i < count; ++i) worst = worse(worst, fabs((double)got[i] - (double)want[i]));
        CHECK(worst < 2e-5, "%s: gradients differ by %g from those of plain loops", levels[k],
              worst);
    }
}

int main(void)
{
    ft_network_options none = {.classes = 0}, quarter = {.width = 0.25f};
    test_published("resnet18", 11689512, none);     /* torchvision */
    test_published("resnet34", 21797672, none);
    test_published("resnet50", 25557032, none);
    test_published("resnet20", 269722, none);       /* He et al.'s, option A */
    test_published("resnet32", 464154, none);
    test_published("resnet44", 658586, none);
    test_published("resnet56", 853018, none);
    test_published("mobilenet_v1", 4231976, none);  /* Keras: all but the statistics */
    test_published("mobilenet_v1", 470072, quarter);
    test_published("keras_cnn", 2104138, none);
    test_initialisers();
    test_seeds();
    test_errors();
    test_large_pictures();
    return check_done("test_networks");
}
