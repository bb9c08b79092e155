#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/json.h"
#include "graph/settings.h"
#include "networks/configs.h"

/* =============================================================================================
   [SECTION] networks/image_processors: How a folder of Hugging Face's prepares pictures
   preprocessor_config.json says how a picture becomes the network's input, and so its size; in
   timm's folders config.json does, in "pretrained_cfg". What they say and is not implemented is an
   error that names it.
   ============================================================================================= */
typedef struct ft__image_processor {
    ft__context *c;
    const char *folder;
    const ft__json *json;
    int object;             /* of the JSON, that has the fields */
    ft_preprocessing p;     /* width and height 0: the folder says nothing */
    bool colours;           /* it has mean and std */
} ft__image_processor;

static ft_status ft__processor_fault(ft__image_processor *r, const char *field, const char *only)
{
    return ft__fail(r->c, FT_UNSUPPORTED, "%s/%sconfig.json: %s: only %s is supported", r->folder,
                    r->object ? "" : "preprocessor_", field, only);
}

static int ft__processor_field(const ft__image_processor *r, const char *field)
{
    return ft__json_member(r->json, r->object, field);
}

/* Whether a field is true; `otherwise`: what its absence means. */
static bool ft__processor_says(const ft__image_processor *r, const char *field, bool otherwise)
{
    int value = ft__processor_field(r, field);
    return value < 0 || ft__json_at(r->json, value, '0') ? otherwise
                                                         : ft__json_true(r->json, value);
}

/* A side of a size that is a number or an object; 0: it is not there. */
static int ft__processor_side(const ft__image_processor *r, const char *field, const char *side)
{
    int value = ft__processor_field(r, field);
    int64_t number = 0;
    bool object = value >= 0 && ft__json_at(r->json, value, 'o');
    if (object) value = ft__json_member(r->json, value, side);
    else if (strcmp(side, "shortest_edge") == 0 && strcmp(field, "size") == 0) return 0;
    return ft__json_int(r->json, value, &number) && number > 0 && number <= 16384 ? (int)number : 0;
}

/* {"height", "width"} or a number is both sides, {"shortest_edge"} the shorter one. */
static void ft__processor_sizes(ft__image_processor *r)
{
    int edge = ft__processor_side(r, "size", "shortest_edge");
    int height = ft__processor_side(r, "size", "height");
    int width = ft__processor_side(r, "size", "width");
    int crop_height = ft__processor_side(r, "crop_size", "height");
    int crop_width = ft__processor_side(r, "crop_size", "width");
    bool crops = ft__processor_says(r, "do_center_crop", crop_height > 0);
    if (!crops && edge)
        ft__processor_fault(r, "do_center_crop is false, so that pictures have any shape", "true");
    if (!edge && (!height || height != width))
        ft__processor_fault(r, "size", "shortest_edge or a square");
    if (crops && (!crop_height || crop_height != crop_width))
        ft__processor_fault(r, "crop_size", "a square");
    r->p.width = r->p.height = crops ? crop_height : height;
    if (crops) r->p.resize = edge ? edge : height;
    r->p.stretch = crops && !edge;
}

static void ft__processor_numbers(ft__image_processor *r, const char *field, float *to)
{
    int list = ft__processor_field(r, field), i, at;
    double number = 0;
    if (list < 0 || ft__json_at(r->json, list, '0')) return;
    for (i = 0, at = list + 1; i < 3 && ft__json_count(r->json, list) == 3; ++i) {
        if (!ft__json_double(r->json, at, &number)) break;
        to[i] = (float)number;
        at = r->json->values[at].next;
    }
    if (i < 3) ft__processor_fault(r, field, "a list of three numbers");
    else r->colours = true;
}

static void ft__read_preprocessor(ft__image_processor *r)
{
    int64_t filter = 2;
    double factor = 1 / 255.0;
    ft__json_int(r->json, ft__processor_field(r, "resample"), &filter);
    ft__json_double(r->json, ft__processor_field(r, "rescale_factor"), &factor);
    if (!ft__processor_says(r, "do_resize", true)) ft__processor_fault(r, "do_resize", "true");
    if (!ft__processor_says(r, "do_rescale", true) || fabs(factor * 255 - 1) > 1e-4)
        ft__processor_fault(r, "do_rescale and rescale_factor", "true and 1/255");
    if (ft__processor_says(r, "do_flip_channel_order", false))
        ft__processor_fault(r, "do_flip_channel_order", "false");
    if (filter != 2 && filter != 3)
        ft__processor_fault(r, "resample", "2 (bilinear) and 3 (bicubic)");
    r->p.bicubic = filter == 3;
    ft__processor_sizes(r);
    if (ft__processor_says(r, "do_normalize", true)) {
        ft__processor_numbers(r, "image_mean", r->p.mean);
        ft__processor_numbers(r, "image_std", r->p.std);
    } else r->colours = true;
}

/* timm's: the shorter side is resized to size / crop_pct, and the centre cut out. */
static void ft__read_timm(ft__image_processor *r)
{
    const char *filter = ft__json_string(r->json, ft__processor_field(r, "interpolation"));
    const char *mode = ft__json_string(r->json, ft__processor_field(r, "crop_mode"));
    int size = ft__processor_field(r, "input_size");
    int64_t channels = 0, height = 0, width = 0;
    double share = 0.875;
    ft__json_int(r->json, ft__json_element(r->json, size, 0), &channels);
    ft__json_int(r->json, ft__json_element(r->json, size, 1), &height);
    ft__json_int(r->json, ft__json_element(r->json, size, 2), &width);
    ft__json_double(r->json, ft__processor_field(r, "crop_pct"), &share);
    if (height < 1 || height > 16384 || width != height)
        ft__processor_fault(r, "input_size", "a square of up to 16384 pixels");
    if (!(share > 0.01 && share <= 1)) ft__processor_fault(r, "crop_pct", "0.01 to 1");
    if (mode && strcmp(mode, "center") != 0) ft__processor_fault(r, "crop_mode", "center");
    if (filter && strcmp(filter, "bicubic") != 0 && strcmp(filter, "bilinear") != 0)
        ft__processor_fault(r, "interpolation", "bilinear or bicubic");
    if (!ft__ok(r->c)) return;
    r->p.bicubic = !filter || strcmp(filter, "bicubic") == 0;
    r->p.width = r->p.height = (int)height;
    r->p.resize = (int)((double)height / share);
    ft__processor_numbers(r, "mean", r->p.mean);
    ft__processor_numbers(r, "std", r->p.std);
}

/* Reads preprocessor_config.json, if the folder has one, or config.json, which is `config`. */
static ft__image_processor ft__read_processor(ft__context *c, const char *folder,
                                              const ft__json *config)
{
    ft__image_processor r;
    ft__json *json = ft__folder_json(c, folder, "preprocessor_config.json");
    int timm = config ? ft__json_member(config, 0, "pretrained_cfg") : -1, i;
    memset(&r, 0, sizeof r);
    r.c = c;
    r.folder = folder;
    for (i = 0; i < 3; ++i) r.p.std[i] = 1;
    r.json = json ? json : config;
    if (json) ft__read_preprocessor(&r);
    else if (timm >= 0) {
        r.object = timm;
        ft__read_timm(&r);
    }
    ft__json_free(c, json);
    r.json = NULL;
    return r;
}

/* Gives a model for pictures the folder's preprocessing. If its pictures have another size than the
   folder's, the size before the cut changes in proportion. */
static void ft__use_processor(ft_model *m, const ft__image_processor *r)
{
    ft_preprocessing p = ft_get_preprocessing(m);
    int i;
    if (r->p.width == 0 || p.width == 0 || !ft__ok(&m->context)) return;
    p.resize = r->p.resize * p.width / r->p.width;
    p.bicubic = r->p.bicubic;
    p.stretch = r->p.stretch;
    for (i = 0; i < 3 && r->colours && p.channels == 3; ++i) {
        p.mean[i] = r->p.mean[i];
        p.std[i] = r->p.std[i];
    }
    ft_set_preprocessing(m, p);
}
