/* make_demo_images.c - draws the small pictures of the demonstration: letters from free fonts,
   rotated, sheared, bent, blurred, and on an uneven background.

     build/make_demo_images base OUT N SEED FONT.ttf...   Latin letters and digits, N of each
     build/make_demo_images task OUT N SEED FONT.ttf...   ten Georgian letters, N of each

   Writes OUT/CLASS/NNN.png, 24x24, grey. The second set is in examples/demo. The first set, on
   which make_demo_base.c pretrains the base network, is not stored: run this program for it. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define STB_TRUETYPE_IMPLEMENTATION
#include <stb/stb_truetype.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

enum { SIDE = 24, LARGE = 96, FINE = 3 }; /* sides: picture, drawn letter; samples per pixel side */

typedef struct letter { int code; const char *name; } letter;

/* Characters that look alike in some font (O and 0, l and I, S and s) are left out. */
static const char latin[] = "ABCDEFGHJKLMNPRTUXYZabdefghmnqrt23456789";
static const letter georgian[] = {
    {0x10D0, "ani"}, {0x10D1, "bani"}, {0x10D2, "gani"}, {0x10D3, "doni"}, {0x10D4, "eni"},
    {0x10D5, "vini"}, {0x10D6, "zeni"}, {0x10D7, "tani"}, {0x10D8, "ini"}, {0x10D9, "kani"}};

/* xorshift64*: the pictures are the same on every machine */
static uint64_t state;

static double uniform(double low, double high)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return low + (high - low) * (double)((state * 0x2545F4914F6CDD1Du) >> 40) / 16777216.0;
}

/* Draws the letter, white on black, in the middle of LARGE x LARGE pixels. */
static int draw(const stbtt_fontinfo *font, int code, unsigned char *large)
{
    int left, top, right, bottom, glyph = stbtt_FindGlyphIndex(font, code);
    float scale = stbtt_ScaleForPixelHeight(font, 72);
    unsigned char *corner;
    if (glyph == 0) return 0;
    memset(large, 0, LARGE * LARGE);
    stbtt_GetGlyphBitmapBox(font, glyph, scale, scale, &left, &top, &right, &bottom);
    if (right - left >= LARGE || bottom - top >= LARGE || right <= left) return 0;
    corner = large + (LARGE - (bottom - top)) / 2 * LARGE + (LARGE - (right - left)) / 2;
    stbtt_MakeGlyphBitmap(font, corner, right - left, bottom - top, LARGE, scale, scale, glyph);
    return 1;
}

static double sample(const unsigned char *large, double x, double y)
{
    int ix = (int)floor(x), iy = (int)floor(y);
    if (ix < 0 || iy < 0 || ix >= LARGE || iy >= LARGE) return 0;
    return large[iy * LARGE + ix] / 255.0;
}

/* How a picture distorts its letter. */
typedef struct distortion {
    double a, b, c, d, x, y;        /* position in the letter = matrix * position + shift */
    double bend[4], wave[4];        /* sines added to both coordinates */
    double ink, ground, slope_x, slope_y, noise;
} distortion;

static distortion any_distortion(void)
{
    distortion t;
    double angle = uniform(-0.45, 0.45), shear = uniform(-0.4, 0.4), size = uniform(2.9, 4.6);
    double stretch = uniform(0.8, 1.25);
    int i;
    t.a = size * stretch * cos(angle);
    t.b = size * (shear - sin(angle));
    t.c = size * stretch * sin(angle);
    t.d = size * cos(angle);
    t.x = LARGE / 2.0 + uniform(-9, 9);
    t.y = LARGE / 2.0 + uniform(-9, 9);
    for (i = 0; i < 4; ++i) {
        t.bend[i] = uniform(0, 6.28);
        t.wave[i] = uniform(0, 4.5);
    }
    t.ink = uniform(0.45, 1);
    t.ground = uniform(0, 0.35);
    t.slope_x = uniform(-0.012, 0.012);
    t.slope_y = uniform(-0.012, 0.012);
    t.noise = uniform(0.02, 0.16);
    return t;
}

static void make_picture(const unsigned char *large, unsigned char *picture)
{
    distortion t = any_distortion();
    int inverted = uniform(0, 1) < 0.5, x, y, i, j;
    for (y = 0; y < SIDE; ++y)
        for (x = 0; x < SIDE; ++x) {
            double sum = 0, value;
            for (i = 0; i < FINE; ++i)
                for (j = 0; j < FINE; ++j) {
                    double px = x + (j + 0.5) / FINE - SIDE / 2.0;
                    double py = y + (i + 0.5) / FINE - SIDE / 2.0;
                    double u = t.a * px + t.b * py + t.x + t.wave[0] * sin(py / 3 + t.bend[0])
                        + t.wave[1] * sin(px / 4 + t.bend[1]);
                    double v = t.c * px + t.d * py + t.y + t.wave[2] * sin(px / 3 + t.bend[2])
                        + t.wave[3] * sin(py / 4 + t.bend[3]);
                    sum += sample(large, u, v);
                }
            value = t.ground + (t.ink - t.ground) * sum / (FINE * FINE)
                + t.slope_x * (x - SIDE / 2) + t.slope_y * (y - SIDE / 2)
                + t.noise * (uniform(-1, 1) + uniform(-1, 1)) / 2;
            value = value < 0 ? 0 : value > 1 ? 1 : value;
            picture[y * SIDE + x] = (unsigned char)(255 * (inverted ? 1 - value : value) + 0.5);
        }
}

static int load_font(const char *path, stbtt_fontinfo *font)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    long size;
    size_t got;
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    bytes = (unsigned char *)malloc((size_t)size); /* the font uses it until the program ends */
    got = bytes ? fread(bytes, 1, (size_t)size, file) : 0;
    fclose(file);
    return got == (size_t)size && stbtt_InitFont(font, bytes, stbtt_GetFontOffsetForIndex(bytes, 0));
}

static int make_class(const char *out, const letter *l, int count, const stbtt_fontinfo *fonts,
                      int font_count)
{
    unsigned char large[LARGE * LARGE], picture[SIDE * SIDE];
    char path[1024];
    int i;
    snprintf(path, sizeof path, "%s/%s", out, l->name);
    mkdir(path, 0777);
    for (i = 0; i < count; ++i) {
        if (!draw(&fonts[i % font_count], l->code, large)) {
            fprintf(stderr, "font %d has no letter U+%04X\n", i % font_count, (unsigned)l->code);
            return 0;
        }
        make_picture(large, picture);
        snprintf(path, sizeof path, "%s/%s/%03d.png", out, l->name, i);
        if (!stbi_write_png(path, SIDE, SIDE, 1, picture, SIDE)) return 0;
    }
    return 1;
}

int main(int count, char **words)
{
    static stbtt_fontinfo fonts[32];
    int font_count, i, done = 1, task;
    if (count < 6 || (strcmp(words[1], "base") != 0 && strcmp(words[1], "task") != 0)) {
        fprintf(stderr, "make_demo_images base|task OUT N SEED FONT.ttf...\n");
        return 2;
    }
    task = strcmp(words[1], "task") == 0;
    state = 0x9E3779B97F4A7C15u ^ (strtoull(words[4], NULL, 10) * 0xD1B54A32D192ED03u);
    for (font_count = 0; font_count + 5 < count && font_count < 32; ++font_count)
        if (!load_font(words[font_count + 5], &fonts[font_count])) {
            fprintf(stderr, "%s: not a font\n", words[font_count + 5]);
            return 1;
        }
    mkdir(words[2], 0777);
    for (i = 0; done && task && i < 10; ++i)
        done = make_class(words[2], &georgian[i], atoi(words[3]), fonts, font_count);
    for (i = 0; done && !task && latin[i]; ++i) {
        char name[8];
        letter l;
        /* file systems that ignore case must still separate lower from upper case */
        snprintf(name, sizeof name, "%s%c", latin[i] >= 'a' ? "small_" : "", latin[i]);
        l.code = latin[i];
        l.name = name;
        done = make_class(words[2], &l, atoi(words[3]), fonts, font_count);
    }
    return done ? 0 : 1;
}
