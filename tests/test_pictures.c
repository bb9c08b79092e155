/* test_pictures.c - picture files and folders as users have them: forms that decoders disagree
   about, against Pillow; damaged files, small files of huge pictures, orientation; folders in
   folders, links, pipes, names that are not UTF-8. tests/golden/make_pictures.py made the files. */
#include "check.h"

#include "finetune.h"

#include <fcntl.h>
#include <sys/stat.h>

#define ROOT "build/pictures_files"
#define GOLDEN "tests/golden/pictures.safetensors"

static char log_text[1 << 16];

static void collect(void *user, const char *line)
{
    size_t at = strlen(log_text), more = strlen(line);
    (void)user;
    if (at + more + 2 > sizeof log_text) return;
    memcpy(log_text + at, line, more);
    memcpy(log_text + at + more, "\n", 2);
}

/* A network whose output is its input, for pictures of these sides: [N, 3 * height * width]. */
static ft_model *mirror(int width, int height, size_t budget)
{
    ft_desc desc;
    ft_input_options in;
    ft_preprocessing p;
    ft_model *m;
    int c;
    memset(&desc, 0, sizeof desc);
    memset(&in, 0, sizeof in);
    memset(&p, 0, sizeof p);
    desc.threads = 2;
    desc.log = collect;
    desc.memory_budget = budget;
    log_text[0] = 0;
    m = ft_create(desc);
    in.size[0] = p.channels = 3;
    in.size[1] = p.height = height;
    in.size[2] = p.width = width;
    for (c = 0; c < 3; ++c) p.std[c] = 1;
    ft_set_output(m, ft_flatten(m, "flat", ft_input(m, "input", in)));
    ft_set_preprocessing(m, p);
    return m;
}

static unsigned char *tensor(ft_file *file, const char *name, size_t *bytes, ft_shape *shape)
{
    int index = ft_file_find(file, name);
    ft_tensor_info info;
    unsigned char *to;
    memset(&info, 0, sizeof info);
    if (index >= 0) info = ft_file_tensor(file, index);
    to = (unsigned char *)malloc((size_t)info.bytes + 1);
    CHECK(index >= 0 && ft_file_read(file, index, to, (size_t)info.bytes) == FT_OK, "%s", name);
    *bytes = (size_t)info.bytes;
    if (shape) *shape = info.shape;
    return to;
}

/* The input that the model made of the picture, as samples again: [3, height, width]. */
static int worst_sample(ft_model *m, const unsigned char *want, int width, int height)
{
    size_t count = 3 * (size_t)width * (size_t)height, i, pixels = count / 3;
    float *got = (float *)malloc(count * sizeof *got);
    int worst = 0;
    if (ft_get(m, ft_find(m, "input"), got, count) != FT_OK) worst = 256;
    for (i = 0; i < count && worst < 256; ++i) {
        int sample = (int)floor(255 * (double)got[i] + 0.5);
        int off = abs(sample - want[3 * (i % pixels) + i / pixels]);
        if (off > worst) worst = off;
    }
    free(got);
    return worst;
}

static void check_picture(ft_file *file, const char *name)
{
    size_t bytes, pixel_bytes;
    char other[96];
    ft_prediction best;
    ft_shape shape;
    unsigned char *picture = tensor(file, name, &bytes, NULL), *want;
    ft_model *m;
    int worst, tolerance = strstr(name, ".jpg") ? 3 : 0; /* decoders round JPEG's cosines apart */
    snprintf(other, sizeof other, "pixels/%s", name + 5);
    want = tensor(file, other, &pixel_bytes, &shape);
    m = mirror(shape.size[1], shape.size[0], 0);
    CHECK(ft_predict_memory(m, picture, bytes, &best, 1) == 1, "%s: %s", name, ft_error_text(m));
    worst = worst_sample(m, want, shape.size[1], shape.size[0]);
    CHECK(worst <= tolerance, "%s: off by %d from Pillow's", name, worst);
    ft_destroy(m);
    free(want);
    free(picture);
}

static void check_refused(ft_file *file, const char *name)
{
    size_t bytes;
    ft_prediction best;
    unsigned char *picture = tensor(file, name, &bytes, NULL);
    ft_model *m = mirror(11, 7, 0);
    CHECK(ft_predict_memory(m, picture, bytes, &best, 1) == 0 && ft_error(m) == FT_FORMAT
          && strstr(ft_error_text(m), "cannot be read as a picture: "), "%s: status %d, %s", name,
          (int)ft_error(m), ft_error_text(m));
    ft_destroy(m);
    free(picture);
}

static void test_files(ft_file *file)
{
    int t, pictures = 0, refused = 0;
    for (t = 0; t < ft_file_count(file); ++t) {
        const char *name = ft_file_tensor(file, t).name;
        if (!strncmp(name, "file/", 5)) {
            check_picture(file, name);
            ++pictures;
        } else if (!strncmp(name, "refused/", 8)) {
            check_refused(file, name);
            ++refused;
        }
    }
    CHECK(pictures == 79 && refused == 21, "%d and %d files are in " GOLDEN, pictures, refused);
}

int main(void)
{
    ft_weights_options options;
    ft_model *m = mirror(1, 1, 0);
    ft_file *file;
    memset(&options, 0, sizeof options);
    file = ft_file_open(m, GOLDEN, options);
    CHECK(file != NULL, "%s", ft_error_text(m));
    if (file) {
        test_files(file);
        ft_file_close(file);
    }
    ft_destroy(m);
    return check_done("pictures");
}
