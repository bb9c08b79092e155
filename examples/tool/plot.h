/* plot.h - the losses of a search for a learning rate, as one SVG file.
   Part of examples/finetune.c. */

enum { MOST_CURVES = 8, PLOT_WIDTH = 640, PLOT_HEIGHT = 300, PLOT_LEFT = 60, PLOT_TOP = 40, PLOT_BOTTOM = 50 };

typedef struct curve {
    char stage[64];
    int count;
    float *rate, *loss, *smoothed, found;
} curve;

typedef struct curves {
    const options *o;
    curve curve[MOST_CURVES];
    int count;
} curves;

static float *copy_numbers(const float *from, int count)
{
    float *to = (float *)malloc((size_t)count * sizeof *to);
    if (to) memcpy(to, from, (size_t)count * sizeof *to);
    return to;
}

static void keep_curve(void *user, const ft_rate_curve *from)
{
    curves *all = (curves *)user;
    curve *c = &all->curve[all->count];
    if (!all->o->lr_plot || all->count == MOST_CURVES || from->count < 2) return;
    snprintf(c->stage, sizeof c->stage, "%s", from->stage);
    c->count = from->count;
    c->found = from->learning_rate;
    c->rate = copy_numbers(from->rate, c->count);
    c->loss = copy_numbers(from->loss, c->count);
    c->smoothed = copy_numbers(from->smoothed, c->count);
    all->count += c->rate && c->loss && c->smoothed;
}

/* Where a rate and a loss lie in a panel whose losses go from `low` to `high`. */
static double plot_x(const curve *c, float rate)
{
    double first = log10((double)c->rate[0]), last = log10((double)c->rate[c->count - 1]);
    return PLOT_LEFT + (log10((double)rate) - first) / (last - first) * (PLOT_WIDTH - PLOT_LEFT - 20);
}

static double plot_y(double loss, double low, double high)
{
    double share = high > low ? (loss - low) / (high - low) : 0.5;
    if (!(share < 1)) share = 1;
    if (share < 0) share = 0;
    return PLOT_TOP + (1 - share) * (PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM);
}

static void plot_line(FILE *f, const curve *c, const float *loss, double low, double high, const char *colour)
{
    int i;
    fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (i = 0; i < c->count; ++i)
        fprintf(f, "%.1f,%.1f ", plot_x(c, c->rate[i]), plot_y((double)loss[i], low, high));
    fprintf(f, "\"/>\n");
}

static void plot_curve(FILE *f, const curve *c, int top)
{
    double low = (double)c->smoothed[0], high = low, margin, tick;
    int i, bottom = PLOT_HEIGHT - PLOT_BOTTOM;
    for (i = 0; i < c->count; ++i)
        if ((double)c->smoothed[i] < low) low = (double)c->smoothed[i];
    margin = 0.1 * (high - low) + 1e-6;
    low -= margin;
    high += 3 * margin;
    fprintf(f, "<g transform=\"translate(0,%d)\">\n", top);
    for (tick = ceil(log10((double)c->rate[0])); tick <= log10((double)c->rate[c->count - 1]); tick += 1) {
        double x = plot_x(c, (float)pow(10, tick));
        fprintf(f, "<path d=\"M%.1f %dV%d\" stroke=\"#ddd\"/>", x, PLOT_TOP, bottom);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">1e%.0f</text>\n", x, bottom + 18, tick);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", PLOT_LEFT - 6, PLOT_TOP + 6, high);
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", PLOT_LEFT - 6, bottom, low);
    fprintf(f, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#333\"/>\n", PLOT_LEFT, PLOT_TOP, bottom,
            PLOT_WIDTH - 20);
    plot_line(f, c, c->loss, low, high, "#bbb");
    plot_line(f, c, c->smoothed, low, high, "#06c");
    if (c->found > 0)
        fprintf(f, "<path d=\"M%.1f %dV%d\" stroke=\"#c30\" stroke-dasharray=\"5 3\"/>\n", plot_x(c, c->found),
                PLOT_TOP, bottom);
    fprintf(f, "<text x=\"%d\" y=\"24\">%s: ", PLOT_LEFT, c->stage);
    if (c->found > 0) fprintf(f, "learning rate %.3g", (double)c->found);
    else fprintf(f, "no learning rate was found");
    fprintf(f, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">learning rate; loss of each step (grey)"
            " and smoothed (blue)</text>\n</g>\n", (PLOT_LEFT + PLOT_WIDTH) / 2, bottom + 38);
}

/* Writes the curves one below the other, and frees them. */
static bool write_curves(curves *all)
{
    int height = all->count * PLOT_HEIGHT, i;
    FILE *f = all->o->lr_plot && all->count > 0 ? fopen(all->o->lr_plot, "w") : NULL;
    bool wanted = all->o->lr_plot && all->count > 0, written = f != NULL;
    if (f) {
        fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\""
                " font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n<rect width=\"100%%\""
                " height=\"100%%\" fill=\"#fff\"/>\n", PLOT_WIDTH, height, PLOT_WIDTH, height);
        for (i = 0; i < all->count; ++i) plot_curve(f, &all->curve[i], i * PLOT_HEIGHT);
        fprintf(f, "</svg>\n");
        written = close_written(f);
    }
    for (i = 0; i < all->count; ++i) {
        free(all->curve[i].rate);
        free(all->curve[i].loss);
        free(all->curve[i].smoothed);
    }
    if (wanted && !written) complain("%s: cannot be written: %s", all->o->lr_plot, strerror(errno));
    return written || !wanted;
}
