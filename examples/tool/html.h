/* html.h - --report: one HTML file with all that a run gave, that loads nothing and has no scripts.
   Part of examples/finetune.c. */

enum { MOST_CELLS = 40, THUMBNAIL = 80 };

/* A name from a file as text of HTML: markup is escaped, what is no text is written as \x1B. */
static void html_text(FILE *to, const char *text)
{
    const char *at;
    for (at = shown(text); *at; ++at) {
        if (*at == '<') fprintf(to, "&lt;");
        else if (*at == '>') fprintf(to, "&gt;");
        else if (*at == '&') fprintf(to, "&amp;");
        else if (*at == '"') fprintf(to, "&quot;");
        else fputc(*at, to);
    }
}

static const char html_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline';"
    " img-src data:\">\n<style>\n"
    ":root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--faint:#5b6570;--line:#d5dae0;--one:#0a5fc2;"
    "--two:#b3440b;--cell:10,95,194}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#14171b;--text:#e6e9ed;--faint:#9aa5b1;--line:#343b44;"
    "--one:#6cb0ff;--two:#ffa366;--cell:108,176,255}}\n"
    "body{margin:0 auto;padding:1rem;max-width:60rem;background:var(--back);color:var(--text);"
    "font:1rem/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.3rem 0}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\n"
    "th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "th:first-child,td:first-child,.settings td{text-align:left}th{font-weight:600}\n"
    ".settings td{vertical-align:top}.settings td+td{white-space:normal;overflow-wrap:anywhere}\n"
    "@media(max-width:30rem){th,td{padding:.2rem .35rem}}\n"
    ".cells td{text-align:center;min-width:1.6rem;border:1px solid var(--line)}\n"
    ".cells thead th{writing-mode:vertical-rl;text-align:left;border:0}\n"
    ".faint{color:var(--faint);font-size:.9rem}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem}\n"
    "svg{width:100%;height:auto}svg text{fill:var(--faint);font-size:11px}.axis{stroke:var(--line)}\n"
    ".one,.two{fill:none;stroke:var(--one);stroke-width:2;stroke-linejoin:round}"
    ".two{stroke:var(--two);stroke-dasharray:5 3}\n"
    "i.one,i.two{display:inline-block;width:1.4rem;border-top:2px solid var(--one);vertical-align:middle}"
    "i.two{border-top:2px dashed var(--two)}\n"
    ".pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:1rem}\n"
    "figure{margin:0}figure img{width:100%;max-width:10rem;height:auto;border-radius:.3rem}\n"
    "figcaption{font-size:.8rem;overflow-wrap:anywhere}\n</style>\n";

/* ---- Curves ---- */

/* What a chart shows of an epoch; NaN: nothing. */
static double charted(const epoch_record *e, int chart, int line)
{
    const double lines[4][2] = {{e->loss, e->held_back_loss}, {e->accuracy, e->held_back_accuracy},
                                {NAN, e->held_back_metric}, {e->learning_rate, NAN}};
    return lines[chart][line];
}

/* One line of a chart: the epochs of all stages, one after the other; broken where a stage ends. */
static void html_line(FILE *to, const history *h, int chart, int line, double low, double high)
{
    bool open = false;
    int i;
    fprintf(to, "<path class=\"%s\" d=\"", line ? "two" : "one");
    for (i = 0; i < h->count; ++i) {
        double value = charted(&h->epochs[i], chart, line);
        if (i && strcmp(h->epochs[i].stage, h->epochs[i - 1].stage) != 0) open = false;
        if (isnan(value)) open = false;
        if (isnan(value)) continue;
        fprintf(to, "%s%.1f %.1f", open ? "L" : "M", 50 + 340.0 * (i + 0.5) / h->count,
                150 - 130 * (value - low) / (high - low));
        if (!open) fprintf(to, "h.1"); /* a point, if the stage has one epoch */
        open = true;
    }
    fprintf(to, "\"/>\n");
}

static void html_chart(FILE *to, const history *h, int chart, const char *title)
{
    double low = HUGE_VAL, high = -HUGE_VAL;
    bool has[2] = {false, false};
    int i, line;
    for (line = 0; line < 2; ++line)
        for (i = 0; i < h->count; ++i) {
            double value = charted(&h->epochs[i], chart, line);
            if (isnan(value)) continue;
            has[line] = true;
            if (value < low) low = value;
            if (value > high) high = value;
        }
    if (!has[0] && !has[1]) return;
    if (chart == 3) low = 0;
    if (high - low < 1e-12) high = low + (low > 0 ? low : 1);
    fprintf(to, "<div><svg viewBox=\"0 0 400 190\" role=\"img\" aria-label=\"%s by epoch\">\n<text x=\"50\" y=\"13\">"
            "%s</text>\n<path class=\"axis\" fill=\"none\" d=\"M50 20V150H390\"/>\n", title, title);
    fprintf(to, "<text x=\"46\" y=\"26\" text-anchor=\"end\">%.3g</text><text x=\"46\" y=\"150\""
            " text-anchor=\"end\">%.3g</text>\n", high, low);
    for (i = 0; i < h->count; ++i) {
        double x = 50 + 340.0 * i / h->count;
        if (i && !strcmp(h->epochs[i].stage, h->epochs[i - 1].stage)) continue;
        fprintf(to, "<path class=\"axis\" d=\"M%.1f 20V165\"/><text x=\"%.1f\" y=\"165\">", x, x + 3);
        html_text(to, h->epochs[i].stage);
        fprintf(to, "</text>\n");
    }
    fprintf(to, "<text x=\"390\" y=\"183\" text-anchor=\"end\">%d epochs</text>\n", h->count);
    for (line = 0; line < 2; ++line)
        if (has[line]) html_line(to, h, chart, line, low, high);
    fprintf(to, "</svg></div>\n");
}

static void html_curves(FILE *to, const history *h)
{
    const epoch_record *last = h->count ? &h->epochs[h->count - 1] : NULL;
    if (!last) return;
    fprintf(to, "<h2>Training</h2>\n<p class=\"faint\"><i class=\"one\"></i> on what was trained on &nbsp; "
            "<i class=\"two\"></i> on what was held back</p>\n<div class=\"charts\">\n");
    html_chart(to, h, 0, "loss");
    html_chart(to, h, 1, "accuracy");
    if (last->metric != FT_METRIC_AUTO && last->metric != FT_METRIC_ACCURACY && last->metric != FT_METRIC_LOSS)
        html_chart(to, h, 2, ft_metric_name(last->metric));
    html_chart(to, h, 3, "learning rate");
    fprintf(to, "</div>\n");
}

/* ---- What was scored ---- */

static void html_metrics(FILE *to, const ft_evaluation *e, const ft_metrics *metrics)
{
    int k;
    fprintf(to, "<h2>Scores of %d samples</h2>\n", e->total);
    if (e->skipped) fprintf(to, "<p>%d could not be read.</p>\n", e->skipped);
    fprintf(to, "<div class=\"wide\"><table><thead><tr><th>metric</th><th>value</th><th>95&nbsp;%% interval</th></tr>"
            "</thead><tbody>\n");
    if (metrics->samples == 0 && e->accuracy >= 0)
        fprintf(to, "<tr><td>accuracy</td><td>%.4f</td><td>%.4f to %.4f</td></tr>\n", e->accuracy, e->low, e->high);
    for (k = 0; k < FT_METRIC_COUNT; ++k) {
        const ft_measure *m = &metrics->of[k];
        if (m->known && !strstr(ft_metric_name((ft_metric)k), "_micro"))
            fprintf(to, "<tr><td>%s</td><td>%.4f</td><td>%.4f to %.4f</td></tr>\n", ft_metric_name((ft_metric)k),
                    m->value, m->low, m->high);
    }
    if (e->entities)
        fprintf(to, "<tr><td>entity F1</td><td>%.4f</td><td></td></tr>\n", e->f1);
    if (e->similarity)
        fprintf(to, "<tr><td>Spearman</td><td>%.4f</td><td></td></tr>\n", e->spearman);
    else fprintf(to, "<tr><td>loss</td><td>%.4f</td><td></td></tr>\n", e->loss);
    fprintf(to, "</tbody></table></div>\n");
}

static void html_class(FILE *to, const ft_model *m, int c)
{
    if (ft_class_name(m, c)) html_text(to, ft_class_name(m, c));
    else fprintf(to, "%d", c);
}

static void html_classes(FILE *to, const ft_model *m, const int *confusion)
{
    int classes = ft_class_count(m), c, k;
    fprintf(to, "<h2>Classes</h2>\n<div class=\"wide\"><table><thead><tr><th>class</th><th>samples</th>"
            "<th>precision</th><th>recall</th><th>F1</th></tr></thead><tbody>\n");
    for (c = 0; c < classes; ++c) {
        int right = confusion[c * classes + c], samples = 0, guesses = 0;
        for (k = 0; k < classes; ++k) samples += confusion[c * classes + k];
        for (k = 0; k < classes; ++k) guesses += confusion[k * classes + c];
        if (samples + guesses == 0) continue;
        fprintf(to, "<tr><td>");
        html_class(to, m, c);
        fprintf(to, "</td><td>%d</td><td>%.3f</td><td>%.3f</td><td>%.3f</td></tr>\n", samples,
                guesses ? (double)right / guesses : 0, samples ? (double)right / samples : 0,
                2.0 * right / (samples + guesses));
    }
    fprintf(to, "</tbody></table></div>\n");
}

/* A shade for each cell, by its share of the row; of many classes the page has the table above alone. */
static void html_confusion(FILE *to, const ft_model *m, const int *confusion)
{
    int classes = ft_class_count(m), c, k;
    if (classes > MOST_CELLS) return;
    fprintf(to, "<h2>Confusion matrix</h2>\n<p class=\"faint\">Rows are the true classes, columns the predicted ones."
            "</p>\n<div class=\"wide\"><table class=\"cells\"><thead><tr><th></th>");
    for (k = 0; k < classes; ++k) {
        fprintf(to, "<th>");
        html_class(to, m, k);
        fprintf(to, "</th>");
    }
    fprintf(to, "</tr></thead><tbody>\n");
    for (c = 0; c < classes; ++c) {
        int samples = 0;
        for (k = 0; k < classes; ++k) samples += confusion[c * classes + k];
        fprintf(to, "<tr><th>");
        html_class(to, m, c);
        fprintf(to, "</th>");
        for (k = 0; k < classes; ++k) {
            int count = confusion[c * classes + k];
            if (count) fprintf(to, "<td style=\"background:rgba(var(--cell),%.2f)\">%d</td>",
                               0.08 + 0.4 * count / samples, count);
            else fprintf(to, "<td></td>");
        }
        fprintf(to, "</tr>\n");
    }
    fprintf(to, "</tbody></table></div>\n");
}

/* ---- The worst mistakes ---- */

static void html_base64(FILE *to, const unsigned char *bytes, size_t count)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i;
    for (i = 0; i < count; i += 3) {
        unsigned long three = (unsigned long)bytes[i] << 16
            | (i + 1 < count ? (unsigned long)bytes[i + 1] << 8 : 0) | (i + 2 < count ? bytes[i + 2] : 0);
        fprintf(to, "%c%c%c%c", letters[three >> 18], letters[three >> 12 & 63],
                i + 1 < count ? letters[three >> 6 & 63] : '=', i + 2 < count ? letters[three & 63] : '=');
    }
}

typedef struct bitmap {
    size_t count;
    unsigned char bytes[54 + THUMBNAIL * (THUMBNAIL * 3 + 3)]; /* a header, and rows that are padded */
} bitmap;

static void add_bytes(void *user, void *from, int count)
{
    bitmap *bmp = (bitmap *)user;
    memcpy(bmp->bytes + bmp->count, from, (size_t)count);
    bmp->count += (size_t)count;
}

/* Writes a picture, at most THUMBNAIL pixels wide and high, as a BMP in a data: address. Each pixel is the
   mean of those that it stands for. False: it cannot be read. */
static bool html_thumbnail(FILE *to, const char *path)
{
    static unsigned char small[THUMBNAIL * THUMBNAIL * 3];
    static bitmap bmp;
    int width, height, channels, x, y, i, j, k;
    unsigned char *pixels = stbi_load(path, &width, &height, &channels, 3);
    int side = width > height ? width : height, w, h;
    if (!pixels) return false;
    if (side < THUMBNAIL) side = THUMBNAIL;
    w = width * THUMBNAIL / side > 0 ? width * THUMBNAIL / side : 1;
    h = height * THUMBNAIL / side > 0 ? height * THUMBNAIL / side : 1;
    for (y = 0; y < h; ++y)
        for (x = 0; x < w; ++x)
            for (k = 0; k < 3; ++k) {
                long sum = 0, count = 0;
                for (j = y * height / h; j <= ((y + 1) * height - 1) / h; ++j)
                    for (i = x * width / w; i <= ((x + 1) * width - 1) / w; ++i, ++count)
                        sum += pixels[3 * ((size_t)j * (size_t)width + (size_t)i) + (size_t)k];
                small[3 * (y * w + x) + k] = (unsigned char)(sum / count);
            }
    stbi_image_free(pixels);
    bmp.count = 0;
    stbi_write_bmp_to_func(add_bytes, &bmp, w, h, 3, small);
    fprintf(to, "<img alt=\"\" width=\"%d\" height=\"%d\" src=\"data:image/bmp;base64,", w, h);
    html_base64(to, bmp.bytes, bmp.count);
    fprintf(to, "\">");
    return true;
}

static void html_mistake(FILE *to, const ft_data *data, const ft_sample_result *r, const char *folder)
{
    char path[4096];
    fprintf(to, "<figure>");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", ft_data_name(data, r->index));
    if (folder && !html_thumbnail(to, path)) fprintf(to, "(cannot be shown)");
    fprintf(to, "<figcaption>");
    html_text(to, ft_data_name(data, r->index));
    fprintf(to, "<br><b>");
    html_text(to, ft_data_class_name(data, r->label));
    fprintf(to, "</b>, predicted as <b>");
    html_text(to, ft_data_class_name(data, r->guess));
    fprintf(to, "</b> (%.1f&nbsp;%%)</figcaption></figure>\n", 100 * (double)r->probability);
}

/* `folder`: of the pictures; NULL: texts. */
static void html_mistakes(FILE *to, const ft_data *data, const mistakes *all, const char *folder)
{
    int i;
    if (all->count == 0) return;
    fprintf(to, "<h2>The most certain mistakes</h2>\n<div class=\"pictures\">\n");
    for (i = 0; i < all->count; ++i) html_mistake(to, data, &all->worst[i], folder);
    fprintf(to, "</div>\n");
}

/* ---- Time, memory, settings ---- */

static void html_times(FILE *to, ft_model *m)
{
    double total = 0;
    ft_node node, other;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id)
        total += ft_node_time(m, node).forward + ft_node_time(m, node).backward;
    if (!(total > 0)) return;
    fprintf(to, "<h2>Time by operator</h2>\n<div class=\"wide\"><table><thead><tr><th>operator</th><th>layers</th>"
            "<th>forward, s</th><th>backward, s</th><th>share</th></tr></thead><tbody>\n");
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *name = ft_node_operator(m, node);
        double forward = 0, backward = 0;
        int layers = 0;
        bool first = true;
        for (other.id = 1; other.id <= ft_node_count(m) && name; ++other.id) {
            ft_time t;
            if (!ft_node_operator(m, other) || strcmp(ft_node_operator(m, other), name) != 0) continue;
            if (other.id < node.id) first = false;
            t = ft_node_time(m, other);
            forward += t.forward;
            backward += t.backward;
            layers += t.forward > 0;
        }
        if (first && forward + backward > 0)
            fprintf(to, "<tr><td>%s</td><td>%d</td><td>%.3f</td><td>%.3f</td><td>%.1f&nbsp;%%</td></tr>\n", name, layers,
                    forward, backward, 100 * (forward + backward) / total);
    }
    fprintf(to, "</tbody></table></div>\n");
}

static void html_row(FILE *to, const char *name, const char *value)
{
    if (!value || !*value) return;
    fprintf(to, "<tr><td>%s</td><td>", name);
    html_text(to, value);
    fprintf(to, "</td></tr>\n");
}

static void html_memory(FILE *to, ft_model *m, int batch)
{
    int length = set_shown_length(m);
    ft_plan_bytes one, training;
    one = ft_plan(m, 1, false);
    if (ft_error(m)) return;
    fprintf(to, "<h2>Memory</h2>\n");
    if (length) fprintf(to, "<p class=\"faint\">For texts of %d tokens.</p>\n", length);
    fprintf(to, "<div class=\"wide\"><table><tbody>\n<tr><td>to predict one sample</td><td>%.1f MB</td></tr>\n",
            1e-6 * (double)one.total);
    memset(&training, 0, sizeof training);
    if (ft_loss(m).id) training = ft_plan(m, batch, true);
    if (training.total)
        fprintf(to, "<tr><td>to train %d at a time</td><td>%.1f MB</td></tr>\n<tr><td>&nbsp; parameters</td><td>%.1f MB"
                "</td></tr>\n<tr><td>&nbsp; gradients and optimizer</td><td>%.1f MB</td></tr>\n<tr><td>&nbsp; "
                "activations</td><td>%.1f MB</td></tr>\n", batch, 1e-6 * (double)training.total,
                1e-6 * (double)training.parameters, 1e-6 * (double)(training.gradients + training.optimizer),
                1e-6 * (double)training.activations);
    fprintf(to, "</tbody></table></div>\n");
}

/* The options as they were given, and what was chosen. */
static void html_settings(FILE *to, const ft_model *m, const options *o, const char *choice, double seconds)
{
    char text[64];
    int r;
    fprintf(to, "<h2>Settings</h2>\n<table class=\"settings\"><tbody>\n");
    html_row(to, "verb", o->verb);
    for (r = 0; r < OPTION_ROWS; ++r)
        if (o->given[r]) html_row(to, option_rows[r].name, option_text(o, r, text));
    html_row(to, "choice", choice);
    html_row(to, "network", ft_architecture(m));
    snprintf(text, sizeof text, "%.4g", (double)ft_temperature(m));
    if (ft_temperature(m) < 1 || ft_temperature(m) > 1) html_row(to, "temperature", text);
    snprintf(text, sizeof text, "%.1f s", seconds);
    html_row(to, "time", text);
    html_row(to, "finetune.h", FINETUNE_VERSION);
    fprintf(to, "</tbody></table>\n");
}

/* ---- The page ---- */

/* The results on a set that was not trained on: figures and, for texts, the worst mistakes. */
typedef struct scored {
    ft_evaluation result;
    ft_metrics metrics;     /* samples 0: none were computed */
    ft_data *data;
    mistakes mistakes;
    bool lists_mistakes;    /* texts: they are printed too */
    int *confusion;         /* for --report; NULL: there are no classes */
    bool classes;           /* false: a language model, with perplexity instead of accuracy */
} scored;

/* ---- The plot of a sweep: a setting in each row, its value and interval ---- */
enum { MOST_PLOTTED = 40, ROW_HEIGHT = 20 };

/* As one <svg>; alone it has colours of its own, else those of the page. */
static void plot_sweep(FILE *to, const sweep_table *t, bool alone)
{
    int count = t->count < MOST_PLOTTED ? t->count : MOST_PLOTTED, shown_rows = 0, i;
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (i = 0; i < count; ++i) {
        if (t->rows[i].epochs == 0 || t->rows[i].failed) continue;
        if (t->rows[i].low < low) low = t->rows[i].low;
        if (t->rows[i].high > high) high = t->rows[i].high;
        shown_rows += 1;
    }
    if (!shown_rows) return;
    if (high - low < 1e-12) high = low + 1;
    fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 %d\" role=\"img\""
            " aria-label=\"settings, best first\">\n", shown_rows * ROW_HEIGHT + 40);
    if (alone)
        fprintf(to, "<style>text{font:11px sans-serif;fill:#444}.axis{stroke:#bbb}.one,.two{fill:none;stroke-width:2}"
                ".one{stroke:#0a5fc2}.two{stroke:#b3440b}</style><rect width=\"100%%\" height=\"100%%\" fill=\"#fff\""
                "/>\n");
    fprintf(to, "<path class=\"axis\" fill=\"none\" d=\"M300 6V%dH630\"/><text x=\"300\" y=\"%d\">%.3g</text><text"
            " x=\"630\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", shown_rows * ROW_HEIGHT + 14,
            shown_rows * ROW_HEIGHT + 32, low, shown_rows * ROW_HEIGHT + 32, high);
    for (i = shown_rows = 0; i < count; ++i) {
        const ft_sweep_row *r = &t->rows[i];
        int y = ROW_HEIGHT * shown_rows + 18;
        double at[3];
        char text[300];
        if (r->epochs == 0 || r->failed) continue;
        at[0] = 305 + 320 * (r->low - low) / (high - low);
        at[1] = 305 + 320 * (r->value - low) / (high - low);
        at[2] = 305 + 320 * (r->high - low) / (high - low);
        setting_text(r, text, sizeof text);
        if (strlen(text) > 46) strcpy(text + 43, "...");
        fprintf(to, "<text x=\"294\" y=\"%d\" text-anchor=\"end\">", y + 4);
        html_text(to, text);
        fprintf(to, "</text><path class=\"%s\" d=\"M%.1f %dH%.1fM%.1f %dh.1\"/><circle class=\"%s\" cx=\"%.1f\""
                " cy=\"%d\" r=\"%d\"/>\n", r->differs ? "two" : "one", at[0], y, at[2], at[1], y,
                r->differs ? "two" : "one", at[1], y, r->place == 1 ? 5 : 3);
        shown_rows += 1;
    }
    fprintf(to, "</svg>\n");
}

/* --plot: the same as a file. */
static bool write_plot(const options *o, const sweep_table *t)
{
    FILE *to = o->plot ? fopen(o->plot, "wb") : NULL;
    bool written = to != NULL;
    if (!o->plot) return true;
    if (to) {
        plot_sweep(to, t, true);
        written = close_written(to);
    }
    if (!written) complain("--plot %s: cannot be written: %s", o->plot, strerror(errno));
    return written;
}

/* The table of a sweep, and its plot, which has the page's colours. */
static void html_sweep(FILE *to, const sweep_table *t)
{
    const ft_sweep_result *result = &t->result;
    int i;
    fprintf(to, "<h2>Settings that were tried</h2>\n<p class=\"faint\">%s of %d held-back samples, with its 95&nbsp;%%"
            " interval; p: of a setting as good as the best one after as many epochs, for all comparisons together.</p>\n",
            result->regression ? "Mean squared error" : "Share right", result->samples);
    plot_sweep(to, t, false);
    fprintf(to, "<div class=\"wide\"><table><thead><tr><th>setting</th><th>epochs</th><th>value</th><th>interval</th>"
            "<th>best&nbsp;then</th><th>p</th><th></th><th>s</th><th>MB</th></tr></thead><tbody>\n");
    for (i = 0; i < t->count; ++i) {
        const ft_sweep_row *r = &t->rows[i];
        char text[300];
        fprintf(to, "<tr><td>");
        html_text(to, setting_text(r, text, sizeof text));
        fprintf(to, "</td><td>%d</td><td>%.4f</td><td>%.4f to %.4f</td><td>%.4f</td><td>", r->epochs, r->value, r->low,
                r->high, r->best);
        if (r->place > 1 && r->epochs && !r->failed) fprintf(to, "%.2g", r->p);
        fprintf(to, "</td><td>%s</td><td>%.0f</td><td>%.0f</td></tr>\n", setting_state(r, result), r->seconds,
                1e-6 * (double)r->memory);
    }
    fprintf(to, "</tbody></table></div>\n<p>");
    html_text(to, t->command);
    fprintf(to, "</p>\n");
}

typedef struct page {
    const char *choice;     /* NULL: nothing was trained */
    const history *history;
    const scored *scored;   /* NULL: nothing was scored */
    const char *folder;     /* of the pictures that were scored; NULL: texts */
    double seconds;
    const sweep_table *sweep; /* NULL: there was none */
} page;

/* Checked before hours of work. `option`: whose value `path` is; NULL: it is not given. */
static bool can_write_to(const char *option, const char *path)
{
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) fclose(file);
    if (path && !file) complain("%s %s: cannot be written: %s", option, path, strerror(errno));
    return !path || file;
}

static bool can_write_report(const options *o)
{
    return can_write_to("--report", o->report) && can_write_to("--plot", o->plot)
        && can_write_to("--lr-plot", o->lr_plot);
}

static bool write_report(ft_model *m, const options *o, const page *p)
{
    const scored *s = p->scored;
    FILE *to = o->report ? fopen(o->report, "wb") : NULL;
    bool written = to != NULL;
    if (!o->report) return true;
    if (to) {
        fprintf(to, "%s<title>finetune: ", html_head);
        html_text(to, o->data);
        fprintf(to, "</title></head><body>\n<h1>finetune %s: ", o->verb);
        html_text(to, o->data);
        fprintf(to, "</h1>\n");
        if (p->choice) fprintf(to, "<p>");
        if (p->choice) html_text(to, p->choice);
        if (p->choice) fprintf(to, "</p>\n");
        if (p->sweep) html_sweep(to, p->sweep);
        if (s) html_metrics(to, &s->result, &s->metrics);
        if (p->history) html_curves(to, p->history);
        if (s && s->confusion) html_confusion(to, m, s->confusion);
        if (s && s->confusion) html_classes(to, m, s->confusion);
        if (s) html_mistakes(to, s->data, &s->mistakes, p->folder);
        html_settings(to, m, o, p->choice, p->seconds);
        html_times(to, m);
        html_memory(to, m, o->batch_size > 0 ? o->batch_size : 32);
        fprintf(to, "</body></html>\n");
        written = close_written(to);
    }
    if (!written) complain("--report %s: cannot be written", o->report);
    return written;
}
