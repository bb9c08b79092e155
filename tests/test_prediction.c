/* test_prediction.c - ft_predict_pixels and ft_predict_memory against arithmetic written here: how
   a pixel is converted, how channels are matched, and the softmax of the classes, best first. */
#include "check.h"
#include "finetune.h"

enum { SIDE = 8, CLASSES = 5 };

/* One linear layer over the picture, whose weights are known. */
static ft_model *make(int channels)
{
    ft_model *m = ft_create((ft_desc){.threads = 1, .seed = 3});
    ft_preprocessing to = {.width = SIDE, .height = SIDE, .channels = channels,
                           .mean = {0.5f, 0.25f, 0.75f}, .std = {0.5f, 2, 0.25f}};
    ft_node x = ft_input(m, "input", (ft_input_options){.size = {channels, SIDE, SIDE}});
    ft_set_output(m, ft_linear(m, "fc", ft_flatten(m, NULL, x), CLASSES, (ft_linear_options){0}));
    ft_set_preprocessing(m, to);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    return m;
}

/* The pixel's value of a channel of the network, from 1 to 4 channels of the picture. */
static double channel_of(const uint8_t *pixel, int has, int wants, int channel)
{
    if (has < 3) return pixel[0];
    if (wants == 3) return pixel[channel];
    return (double)((19595u * pixel[0] + 38470u * pixel[1] + 7471u * pixel[2] + 0x8000u) >> 16);
}

static void want_of(ft_model *m, const uint8_t *pixels, int has, int wants, double want[CLASSES])
{
    static float weight[CLASSES * 3 * SIDE * SIDE], bias[CLASSES];
    static const double mean[] = {0.5, 0.25, 0.75}, std[] = {0.5, 2, 0.25};
    double largest = -1e300, sum = 0;
    int k, c, i;
    ft_get(m, ft_find(m, "fc.weight"), weight, (size_t)(CLASSES * wants * SIDE * SIDE));
    ft_get(m, ft_find(m, "fc.bias"), bias, CLASSES);
    for (k = 0; k < CLASSES; ++k) {
        want[k] = (double)bias[k];
        for (c = 0; c < wants; ++c)
            for (i = 0; i < SIDE * SIDE; ++i)
                want[k] += (double)weight[(k * wants + c) * SIDE * SIDE + i]
                    * (channel_of(pixels + i * has, has, wants, c) / 255 - mean[c]) / std[c];
        if (want[k] > largest) largest = want[k];
    }
    for (k = 0; k < CLASSES; ++k) sum += want[k] = exp(want[k] - largest);
    for (k = 0; k < CLASSES; ++k) want[k] /= sum;
}

static void check_best(const char *what, const ft_prediction *best, int count, const double *want)
{
    int i, k, larger;
    for (i = 0; i < count; ++i) {
        CHECK(best[i].class_index >= 0 && best[i].class_index < CLASSES
              && CLOSE(best[i].probability, want[best[i].class_index], 1e-5),
              "%s: place %d is class %d of %g", what, i, best[i].class_index,
              (double)best[i].probability);
        for (larger = k = 0; k < CLASSES; ++k) larger += want[k] > want[best[i].class_index];
        CHECK(larger == i, "%s: class %d comes in place %d", what, best[i].class_index, i);
    }
}

static uint8_t value_at(int i) { return (uint8_t)(i * 89 + i * i * 7); }

static void test_pixels(void)
{
    int has, wants, i;
    for (wants = 1; wants <= 3; wants += 2)
        for (has = 1; has <= 4; ++has) {
            ft_model *m = make(wants);
            uint8_t pixels[4 * SIDE * SIDE];
            ft_prediction best[CLASSES + 1];
            double want[CLASSES];
            char what[40];
            for (i = 0; i < has * SIDE * SIDE; ++i) pixels[i] = value_at(i);
            snprintf(what, sizeof what, "%d channels for %d", has, wants);
            want_of(m, pixels, has, wants, want);
            CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, has, best, 3) == 3, "%s: %s", what,
                  ft_error_text(m));
            check_best(what, best, 3, want);
            /* more than there are classes: all of them */
            CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, has, best, CLASSES + 1) == CLASSES,
                  "%s: all", what);
            check_best(what, best, CLASSES, want);
            ft_destroy(m);
        }
}

/* Another size is resized: of one colour nothing changes, whatever the filter. */
static void test_resized(void)
{
    static uint8_t large[3 * 31 * 17], exact[3 * SIDE * SIDE];
    ft_model *m = make(3);
    ft_prediction best[CLASSES];
    double want[CLASSES];
    int i;
    for (i = 0; i < 3 * 31 * 17; ++i) large[i] = (uint8_t)(40 + 70 * (i % 3));
    for (i = 0; i < 3 * SIDE * SIDE; ++i) exact[i] = (uint8_t)(40 + 70 * (i % 3));
    want_of(m, exact, 3, 3, want);
    CHECK(ft_predict_pixels(m, large, 31, 17, 3, best, CLASSES) == CLASSES, "%s", ft_error_text(m));
    check_best("31 x 17", best, CLASSES, want);
    ft_destroy(m);
}

static void test_pixels_refused(void)
{
    static const int sizes[][3] = {{0, 8, 3}, {8, 0, 3}, {-1, 8, 3}, {8, 8, 0}, {8, 8, 5},
                                   {2000000000, 2000000000, 4}};
    uint8_t pixels[3 * SIDE * SIDE] = {0};
    ft_prediction best[3];
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        ft_model *m = make(3);
        CHECK(ft_predict_pixels(m, pixels, sizes[i][0], sizes[i][1], sizes[i][2], best, 3) == 0
              && ft_error(m) != FT_OK, "%d x %d, %d channels", sizes[i][0], sizes[i][1], sizes[i][2]);
        ft_clear_error(m);
        CHECK(ft_predict_pixels(m, NULL, SIDE, SIDE, 3, best, 3) == 0 && ft_error(m) != FT_OK, "NULL");
        ft_clear_error(m);
        CHECK(ft_predict_pixels(m, pixels, SIDE, SIDE, 3, best, 3) == 3, "and then again: %s",
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* A file in memory gives what its pixels give; PPM and PGM hold them as they are. */
static void test_memory(void)
{
    int channels, i;
    for (channels = 1; channels <= 3; channels += 2) {
        uint8_t file[40 + 3 * SIDE * SIDE];
        ft_model *m = make(3);
        ft_prediction pixels[3], memory[3];
        double want[CLASSES];
        int header = snprintf((char *)file, sizeof file, "P%d\n%d %d\n255\n", channels == 3 ? 6 : 5,
                              SIDE, SIDE), count = channels * SIDE * SIDE;
        for (i = 0; i < count; ++i) file[header + i] = value_at(i);
        want_of(m, file + header, channels, 3, want);
        CHECK(ft_predict_memory(m, file, (size_t)(header + count), memory, 3) == 3, "%s",
              ft_error_text(m));
        check_best("a file in memory", memory, 3, want);
        ft_predict_pixels(m, file + header, SIDE, SIDE, channels, pixels, 3);
        for (i = 0; i < 3; ++i)
            CHECK(pixels[i].class_index == memory[i].class_index
                  && pixels[i].probability == memory[i].probability, "place %d: other bits", i);
        CHECK(ft_predict_memory(m, "no picture at all", 17, memory, 3) == 0 && ft_error(m) != FT_OK
              && *ft_error_text(m), "no picture");
        ft_clear_error(m);
        CHECK(ft_predict_memory(m, file, 0, memory, 3) == 0 && ft_error(m) != FT_OK, "no bytes");
        ft_clear_error(m);
        CHECK(ft_predict_memory(m, NULL, 0, memory, 3) == 0 && ft_error(m) != FT_OK, "NULL");
        ft_clear_error(m);
        CHECK(ft_predict_memory(m, file, (size_t)(header + count), memory, 3) == 3, "%s",
              ft_error_text(m));
        ft_destroy(m);
    }
}

/* A network that takes no pictures says so. */
static void test_no_picture_network(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    uint8_t pixels[12] = {0};
    ft_prediction best[3];
    ft_set_output(m, ft_linear(m, "fc", ft_input(m, "input", (ft_input_options){.size = {12}}), 3,
                               (ft_linear_options){0}));
    CHECK(ft_predict_pixels(m, pixels, 2, 2, 3, best, 3) == 0 && ft_error(m) != FT_OK, "without a size");
    ft_destroy(m);
}

int main(void)
{
    test_pixels();
    test_resized();
    test_pixels_refused();
    test_memory();
    test_no_picture_network();
    return check_done("test_prediction");
}
