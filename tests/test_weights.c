/* test_weights.c - real weights give PyTorch's logits: from tensors, from a PNG through all steps,
   and from JPEGs, whose decoders differ. The weights are in FINETUNE_DATA; PyTorch's results are in
   tests/golden/reference.safetensors, made by make_reference.py. */
#include "check.h"
#include "finetune.h"
#include "formula.h"

static char data[512];

static ft_model *load(const char *weights)
{
    char path[700];
    ft_desc desc;
    ft_load_options options;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    m = ft_create(desc);
    snprintf(path, sizeof path, "%s/weights/%s", data, weights);
    options.weights.map = true;
    ft_load(m, path, options);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

static ft_file *reference(ft_model *m)
{
    ft_weights_options options;
    memset(&options, 0, sizeof options);
    return ft_file_open(m, "tests/golden/reference.safetensors", options);
}

static float *wanted(ft_file *file, const char *name, size_t count)
{
    float *values = (float *)calloc(count, sizeof *values);
    ft_file_read_f32(file, ft_file_find(file, name), values, count);
    return values;
}

static double worst_of(const float *got, const float *want, size_t count, double *largest)
{
    double worst = 0;
    size_t i;
    *largest = 0;
    for (i = 0; i < count; ++i) {
        worst = worse(worst, fabs((double)got[i] - (double)want[i]));
        if (fabs((double)want[i]) > *largest) *largest = fabs((double)want[i]);
    }
    return worst;
}

static void test_tensor(const char *weights, const char *key, int batch, double bound)
{
    ft_model *m = load(weights);
    ft_file *file = reference(m);
    size_t pixels = 3 * 224 * 224 * (size_t)batch, count = 1000 * (size_t)batch;
    float *x = (float *)calloc(pixels, sizeof *x), *got = (float *)calloc(count, sizeof *got);
    float *want = wanted(file, key, count);
    double largest, worst;
    by_formula("input", x, pixels, -bound, bound);
    ft_run(m, x, batch, got, count);
    worst = worst_of(got, want, count, &largest);
    CHECK(ft_error(m) == FT_OK && worst <= 1e-4 * largest, "%s: off by %.3g of %.3g; %s", key,
          worst, largest, ft_error_text(m));
    printf("%s: logits off by %.2g of the largest\n", key, worst / largest);
    free(x);
    free(got);
    free(want);
    ft_file_close(file);
    ft_destroy(m);
}

/* The logits behind the last prediction. */
static void last_logits(ft_model *m, float *to)
{
    ft_get(m, ft_output(m), to, 1000);
}

static void test_pictures(void)
{
    ft_model *m = load("resnet18_imagenet.safetensors");
    ft_file *file = reference(m);
    float got[1000], *want = wanted(file, "resnet18/picture", 1000);
    ft_prediction best[1];
    double largest, worst, worst_jpeg = 0;
    const char *at = ft_file_metadata(file, "files"); /* ["name", "name", ...] */
    int i, same = 0;
    ft_predict_file(m, "tests/golden/picture.png", best, 1);
    last_logits(m, got);
    worst = worst_of(got, want, 1000, &largest);
    CHECK(ft_error(m) == FT_OK && worst <= 1e-3, "picture.png: off by %.3g; %s", worst,
          ft_error_text(m));
    free(want);
    want = wanted(file, "resnet18/jpeg", 20 * 1000);
    for (i = 0; i < 20; ++i) {
        char path[700];
        const float *row = want + i * 1000;
        int letters, k, largest_at = 0;
        at = strchr(at, '"') + 1;
        letters = (int)strcspn(at, "\"");
        snprintf(path, sizeof path, "%s/%.*s", data, letters, at);
        at += letters + 1;
        for (k = 1; k < 1000; ++k)
            if (row[k] > row[largest_at]) largest_at = k;
        ft_predict_file(m, path, best, 1);
        last_logits(m, got);
        worst = worst_of(got, row, 1000, &largest);
        CHECK(ft_error(m) == FT_OK && worst <= 0.15, "%s: off by %.3g; %s", path, worst,
              ft_error_text(m));
        if (worst > worst_jpeg) worst_jpeg = worst;
        same += best[0].class_index == largest_at;
    }
    CHECK(same >= 19, "the same first class on %d of 20", same);
    printf("JPEGs: logits off by up to %.3g, the same first class on %d of 20\n", worst_jpeg, same);
    free(want);
    ft_file_close(file);
    ft_destroy(m);
}

int main(void)
{
    const char *from = getenv("FINETUNE_DATA");
    FILE *probe;
    char path[700];
    snprintf(data, sizeof data, "%s", from ? from : "../shared/data");
    snprintf(path, sizeof path, "%s/weights/resnet18_imagenet.safetensors", data);
    probe = fopen(path, "rb");
    if (!probe) {
        SKIP("no FINETUNE_DATA: real weights");
        return check_done("test_weights");
    }
    fclose(probe);
    test_tensor("resnet18_imagenet.safetensors", "resnet18/formula", 2, 2);
    test_tensor("mobilenet_v1_025_224.safetensors", "mobilenet/formula", 1, 1);
    test_pictures();
    return check_done("test_weights");
}
