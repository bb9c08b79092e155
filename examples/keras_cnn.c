/* cc -std=c99 -O2 -I. examples/keras_cnn.c -o keras_cnn -lm -pthread
   keras_cnn.c - the small convolutional network of Keras' tutorials, and the same one adjusted: a smaller dense
   layer, another activation and loss, and a learning rate that rises and falls. Both are compiled, fitted for
   10 epochs and evaluated, as in Keras:
       keras_cnn                                                digits drawn here: 1,000 to learn from, 500 to test
       keras_cnn t10k-images-idx3-ubyte t10k-labels-idx1-ubyte  MNIST's (unpacked): 8,000, and the other 2,000
   What it prints is in docs/examples.md. */
#include <math.h>
#include <stdio.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"

enum { EPOCHS = 10, CLASSES = 10, SIDE = 28, MOST = 10000 };

static uint8_t pixels[MOST][SIDE][SIDE];
static unsigned char labels[MOST];

static double uniform(double low, double high)
{
    static unsigned state = 7;
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * (double)(state >> 8) / 16777216;
}

/* The distance of a point from a line from (x, y) to (x + dx, y + dy). */
static double distance(double px, double py, double x, double y, double dx, double dy)
{
    double along = (px - x) * dx + (py - y) * dy;
    along = along < 0 ? 0 : along > 1 ? 1 : along;
    return hypot(px - x - along * dx, py - y - along * dy);
}

/* A digit as clocks show it, of up to seven lines of length 1: turned, slanted, of any size, thickness and place, light
   on dark or dark on light, with noise. */
static void draw(uint8_t picture[SIDE][SIDE], int digit)
{
    static const double lines[7][4] = { /* x, y and direction, about the middle */
        {-0.5, -1, 1, 0}, {0.5, -1, 0, 1}, {0.5, 0, 0, 1}, {-0.5, 1, 1, 0}, {-0.5, 0, 0, 1}, {-0.5, -1, 0, 1},
        {-0.5, 0, 1, 0}};
    static const unsigned of_digit[CLASSES] = {0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f};
    double size = uniform(5, 9), turn = uniform(-0.5, 0.5), slant = uniform(-0.4, 0.4), thick = uniform(0.1, 0.25);
    double left = SIDE / 2 + uniform(-4, 4), top = SIDE / 2 + uniform(-4, 4);
    double paper = uniform(0, 255), ink = paper < 128 ? uniform(paper + 60, 255) : uniform(0, paper - 60);
    int i, j, k;
    for (i = 0; i < SIDE; ++i)
        for (j = 0; j < SIDE; ++j) {
            double x = ((j - left) * cos(turn) + (i - top) * sin(turn)) / size;
            double y = ((i - top) * cos(turn) - (j - left) * sin(turn)) / size, nearest = 9, share, shade;
            x -= slant * y;
            for (k = 0; k < 7; ++k)
                if (of_digit[digit] >> k & 1)
                    nearest = fmin(nearest, distance(x, y, lines[k][0], lines[k][1], lines[k][2], lines[k][3]));
            share = fmin(1, fmax(0, 0.5 + (thick - nearest) * size));
            shade = paper + (ink - paper) * share + uniform(-40, 40);
            picture[i][j] = (uint8_t)fmin(255, fmax(0, shade));
        }
}

/* Reads what follows the first bytes of a file. */
static bool read_file(const char *path, int skipped, void *to, size_t bytes)
{
    FILE *file = fopen(path, "rb");
    bool whole = file && fseek(file, skipped, SEEK_SET) == 0 && fread(to, 1, bytes, file) == bytes;
    if (file) fclose(file);
    if (!whole) fprintf(stderr, "%s: not a file of 10,000 digits of MNIST\n", path);
    return whole;
}

/* Pictures `first` to `first` + `count`. */
static ft_data *data_of(ft_model *m, int first, int count)
{
    static const uint8_t *picture[MOST];
    static ft_picture_size size[MOST];
    static int label[MOST];
    int i;
    for (i = 0; i < count; ++i) {
        picture[i] = pixels[first + i][0];
        size[i] = (ft_picture_size){SIDE, SIDE};
        label[i] = labels[first + i];
    }
    return ft_pixels(m, count, picture, size, label,
                     (ft_pixels_options){.channels = 1, .classes = CLASSES, .augmentation = {.shift = 0.1f, .degrees = 10}});
}

/* In Keras: model = Sequential([Conv2D(32, 3, padding="same", activation="relu"), MaxPooling2D(), ...]) */
static ft_model *build(bool adjusted)
{
    ft_model *m = ft_create((ft_desc){.seed = 1});
    ft_network_options o = {.classes = CLASSES, .image_size = 32, .channels = 1, .keras_initialisers = true};
    o.adjusted = adjusted; /* Dense(256, ...) instead of Dense(1024, ...) */
    ft_network(m, "keras_cnn", o);
    return m;
}

/* model.compile(optimizer=..., loss=...): what it learns from, and how fast. */
static ft_fit_options compile(ft_model *m, bool adjusted)
{
    ft_fit_options o = {.epochs = EPOCHS, .batch_size = 32, .augment = adjusted};
    o.optimizer.optimizer = FT_ADAM;
    o.optimizer.learning_rate = 1e-3f;
    o.optimizer.eps = 1e-7f;
    if (!adjusted) return o;
    ft_swap_activations(m, "*", "elu", (ft_activation_options){0});
    ft_set_loss_kind(m, "cross_entropy", (ft_loss_options){.label_smoothing = 0.1f});
    o.optimizer.learning_rate = 2e-3f;
    o.schedule = FT_ONE_CYCLE;
    return o;
}

static bool run(const char *name, bool adjusted, int train, int test)
{
    ft_model *m = build(adjusted);
    ft_fit_options options = compile(m, adjusted);
    bool fine;
    printf("%s: parameters: %d\n", name, (int)(ft_plan(m, 32, false).parameters / sizeof(float)));
    ft_fit(m, data_of(m, 0, train), options);
    printf("%s: right of %d after %d epochs: %d\n", name, test, EPOCHS,
           ft_evaluate(m, data_of(m, train, test), (ft_evaluate_options){0}).correct);
    fine = ft_error(m) == FT_OK;
    if (!fine) fprintf(stderr, "%s\n", ft_error_text(m));
    ft_destroy(m);
    return fine;
}

int main(int count, char **words)
{
    int train = count > 2 ? 8000 : 1000, test = count > 2 ? 2000 : 500, i;
    if (count > 2 && !(read_file(words[1], 16, pixels, sizeof pixels) && read_file(words[2], 8, labels, sizeof labels)))
        return 1;
    for (i = 0; count <= 2 && i < train + test; ++i) draw(pixels[i], labels[i] = (unsigned char)(i % CLASSES));
    printf("digits to learn from: %d\n", train);
    return run("base", false, train, test) && run("adjusted", true, train, test) ? 0 : 1;
}
