#pragma once
#include "interface/types.h"
#include "interface/operators.h"
#include "operators/adding.h"
#include "operators/dropout.h"
#include "operators/conv2d.h"
#include "operators/linear.h"
#include "operators/batch_norm.h"
#include "operators/pooling.h"
#include "operators/reshape.h"
#include "operators/arithmetic.h"
#include "operators/pad_and_slice.h"
#include "operators/losses.h"
#include "graph/settings.h"
#include "graph/building.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"

/* =============================================================================================
   [SECTION] networks/images: Ready-made networks for pictures
   Each uses the names of its published weights. They are built with the public functions, so this
   part also shows how to build a network by hand.
   ============================================================================================= */
typedef struct ft__builder {
    ft_model *m;
    ft_network_options o;   /* with defaults filled in */
    int blocks[4];          /* per stage of a ResNet */
    bool bottleneck;
} ft__builder;

/* A row of the table of networks. */
typedef struct ft__network ft__network;
struct ft__network {
    const char *name;
    ft_node (*build)(ft__builder *b);
    /* Does the file hold its weights? If so, sets classes, channels and width too. */
    bool (*matches)(const ft__network *network, const ft_file *file, const char *rename,
                    ft_network_options *o);
    int classes, image_size;
    bool bottleneck;
    int blocks[4];
    const char *may_lack;   /* glob: weights that a file need not have: the head of a new task */
    const char *may_hold;   /* glob: tensors of a file that the network has no use for */
};

/* The index of the tensor that has this name after renaming, or -1. */
static int ft__find_renamed(const ft_file *file, const char *rename, const char *wanted)
{
    char name[512];
    int i;
    if (!rename || !*rename) {
        snprintf(name, sizeof name, "%.*s%s", (int)file->skip, file->prefix, wanted);
        return ft_file_find(file, name);
    }
    for (i = 0; i < ft_file_count(file); ++i) {
        ft__renamed(rename, ft__shown_name(file, i), name, sizeof name);
        if (strcmp(name, wanted) == 0) return i;
    }
    return -1;
}

static int ft__size_in_file(const ft_file *file, const char *rename, const char *name, int d)
{
    int index = ft__find_renamed(file, rename, name);
    ft_tensor_info info = ft_file_tensor(file, index < 0 ? -1 : index);
    /* A network is built after tensors whose numbers are in the file, not after mere sizes. */
    return d < info.shape.rank && info.bytes > 0 ? info.shape.size[d] : 0;
}

/* Sets classes and channels from the shapes of the last and first layer; false without them. */
static bool ft__size_classifier(const ft_file *file, const char *rename,
                                           const char *first, const char *last,
                                           ft_network_options *o)
{
    o->classes = ft__size_in_file(file, rename, last, 0);
    o->channels = ft__size_in_file(file, rename, first, 1);
    return o->classes > 0 && o->channels > 0;
}

/* "prefix.part", written to the caller's buffer. */
static const char *ft__part(char *buffer, const char *prefix, const char *part)
{
    snprintf(buffer, 128, "%s%s%s", prefix, *prefix ? "." : "", part);
    return buffer;
}

static ft_node ft__picture_input(ft__builder *b)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.size[0] = b->o.channels;
    o.size[1] = o.size[2] = b->o.image_size;
    return ft_input(b->m, "input", o);
}

/* Output, labels, loss and preprocessing: what every classifier ends with. */
static ft_node ft__classifier(ft__builder *b, ft_node logits, int resize,
                                         const float *mean, const float *std)
{
    ft_input_options labels;
    ft_loss_options loss;
    ft_preprocessing p;
    int i;
    memset(&labels, 0, sizeof labels);
    memset(&loss, 0, sizeof loss);
    memset(&p, 0, sizeof p);
    labels.type = FT_I32;
    ft_set_output(b->m, logits);
    ft_set_loss(b->m, ft_cross_entropy(b->m, "loss", logits, ft_input(b->m, "labels", labels),
                                       loss));
    p.width = p.height = b->o.image_size;
    p.channels = b->o.channels;
    p.resize = resize;
    for (i = 0; i < p.channels && i < 4; ++i) { /* grey: the mean over the colours */
        p.mean[i] = p.channels == 1 ? (mean[0] + mean[1] + mean[2]) / 3 : mean[i % 3];
        p.std[i] = p.channels == 1 ? (std[0] + std[1] + std[2]) / 3 : std[i % 3];
    }
    ft_set_preprocessing(b->m, p);
    return logits;
}

static const float ft__imagenet_mean[] = {0.485f, 0.456f, 0.406f};
static const float ft__imagenet_std[] = {0.229f, 0.224f, 0.225f};
static const float ft__halves[] = {0.5f, 0.5f, 0.5f};

/* The picture's shorter side before the centre crop: 256 for 224, and in that proportion. */
static int ft__resize_for(int image_size) { return (image_size * 256 + 112) / 224; }

static ft_node ft__relu(ft__builder *b, const char *name, ft_node x)
{
    ft_activation_options none;
    memset(&none, 0, sizeof none);
    return ft_activation(b->m, "relu", name, x, none);
}

/* ---- ResNets: He et al. 2015, with torchvision's names (stride in the 3x3 convolution) ---- */
/* Convolution without bias, then batch norm. */
static ft_node ft__conv_norm(ft__builder *b, const char *conv, const char *norm, ft_node x,
                             int channels, int kernel, int stride)
{
    ft_conv2d_options c;
    ft_batch_norm_options n;
    memset(&c, 0, sizeof c);
    memset(&n, 0, sizeof n);
    c.kernel[0] = kernel;
    c.stride[0] = stride;
    c.padding[0] = kernel / 2;
    c.no_bias = true;
    c.initialiser = FT_INIT_KAIMING_NORMAL;
    return ft_batch_norm(b->m, norm, ft_conv2d(b->m, conv, x, channels, c), n);
}

static ft_node ft__basic_block(ft__builder *b, const char *name, ft_node x, int channels,
                               int stride)
{
    char one[128], two[128];
    x = ft__conv_norm(b, ft__part(one, name, "conv1"), ft__part(two, name, "bn1"), x, channels, 3,
                      stride);
    x = ft__relu(b, ft__part(one, name, "relu1"), x);
    return ft__conv_norm(b, ft__part(one, name, "conv2"), ft__part(two, name, "bn2"), x, channels,
                         3, 1);
}

static ft_node ft__bottleneck(ft__builder *b, const char *name, ft_node x, int channels,
                              int stride)
{
    char one[128], two[128];
    x = ft__conv_norm(b, ft__part(one, name, "conv1"), ft__part(two, name, "bn1"), x, channels, 1,
                      1);
    x = ft__relu(b, ft__part(one, name, "relu1"), x);
    x = ft__conv_norm(b, ft__part(one, name, "conv2"), ft__part(two, name, "bn2"), x, channels, 3,
                      stride);
    x = ft__relu(b, ft__part(one, name, "relu2"), x);
    return ft__conv_norm(b, ft__part(one, name, "conv3"), ft__part(two, name, "bn3"), x,
                         4 * channels, 1, 1);
}

static ft_node ft__resnet_stage(ft__builder *b, ft_node x, int stage)
{
    int channels = 64 << stage, wide = b->bottleneck ? 4 * channels : channels, i;
    for (i = 0; i < b->blocks[stage]; ++i) {
        char name[64], one[128], two[128];
        int stride = stage > 0 && i == 0 ? 2 : 1;
        ft_node shortcut = x;
        snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
        x = b->bottleneck ? ft__bottleneck(b, name, x, channels, stride)
                          : ft__basic_block(b, name, x, channels, stride);
        if (i == 0 && (stage > 0 || b->bottleneck))
            shortcut = ft__conv_norm(b, ft__part(one, name, "downsample.0"),
                                     ft__part(two, name, "downsample.1"), shortcut, wide, 1,
                                     stride);
        x = ft_add(b->m, ft__part(one, name, "add"), x, shortcut);
        x = ft__relu(b, ft__part(one, name, b->bottleneck ? "relu3" : "relu2"), x);
    }
    return x;
}

static ft_node ft__build_resnet(ft__builder *b)
{
    ft_pool2d_options pool;
    ft_linear_options head;
    ft_node x = ft__picture_input(b);
    int stage;
    memset(&pool, 0, sizeof pool);
    memset(&head, 0, sizeof head);
    pool.kernel[0] = 3;
    pool.stride[0] = 2;
    pool.padding[0] = 1;
    x = ft__relu(b, "relu", ft__conv_norm(b, "conv1", "bn1", x, 64, 7, 2));
    x = ft_max_pool2d(b->m, "maxpool", x, pool);
    for (stage = 0; stage < 4; ++stage) x = ft__resnet_stage(b, x, stage);
    x = ft_flatten(b->m, "flatten", ft_global_avg_pool(b->m, "avgpool", x));
    return ft__classifier(b, ft_linear(b->m, "fc", x, b->o.classes, head),
                          ft__resize_for(b->o.image_size), ft__imagenet_mean, ft__imagenet_std);
}

/* Does the file hold a ResNet of exactly these blocks? */
static bool ft__has_blocks(const ft_file *file, const char *rename, const ft__network *network)
{
    char name[64];
    int stage;
    for (stage = 0; stage < 4 && network->blocks[stage]; ++stage) {
        snprintf(name, sizeof name, "layer%d.%d.conv1.weight", stage + 1,
                 network->blocks[stage] - 1);
        if (ft__find_renamed(file, rename, name) < 0) return false;
        snprintf(name, sizeof name, "layer%d.%d.conv1.weight", stage + 1, network->blocks[stage]);
        if (ft__find_renamed(file, rename, name) >= 0) return false;
    }
    return (ft__find_renamed(file, rename, "layer1.0.conv3.weight") >= 0) == network->bottleneck;
}

static bool ft__matches_resnet(const ft__network *network, const ft_file *file,
                               const char *rename, ft_network_options *o)
{
    return ft__size_classifier(file, rename, "conv1.weight", "fc.weight", o)
        && ft__has_blocks(file, rename, network);
}

/* For CIFAR: three stages; a shortcut to twice the channels takes every second pixel and adds
   channels of zeros on both sides (option A). */
static ft_node ft__option_a(ft__builder *b, const char *name, ft_node x, int channels)
{
    ft_slice_options every_second;
    ft_pad_options zeros;
    char one[128];
    memset(&every_second, 0, sizeof every_second);
    memset(&zeros, 0, sizeof zeros);
    every_second.step[2] = every_second.step[3] = 2;
    zeros.before[1] = zeros.after[1] = channels / 4;
    x = ft_slice(b->m, ft__part(one, name, "shortcut.slice"), x, every_second);
    return ft_pad(b->m, ft__part(one, name, "shortcut.pad"), x, zeros);
}

static ft_node ft__build_cifar_resnet(ft__builder *b)
{
    ft_linear_options head;
    ft_node x = ft__picture_input(b);
    int stage, i;
    memset(&head, 0, sizeof head);
    x = ft__relu(b, "relu", ft__conv_norm(b, "conv1", "bn1", x, 16, 3, 1));
    for (stage = 0; stage < 3; ++stage)
        for (i = 0; i < b->blocks[stage]; ++i) {
            char name[64], one[128];
            bool halve = stage > 0 && i == 0;
            ft_node shortcut = x;
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            x = ft__basic_block(b, name, x, 16 << stage, halve ? 2 : 1);
            if (halve) shortcut = ft__option_a(b, name, shortcut, 16 << stage);
            x = ft_add(b->m, ft__part(one, name, "add"), x, shortcut);
            x = ft__relu(b, ft__part(one, name, "relu2"), x);
        }
    x = ft_flatten(b->m, "flatten", ft_global_avg_pool(b->m, "avgpool", x));
    return ft__classifier(b, ft_linear(b->m, "linear", x, b->o.classes, head), 0,
                          ft__imagenet_mean, ft__imagenet_std);
}

static bool ft__matches_cifar_resnet(const ft__network *network, const ft_file *file,
                                     const char *rename, ft_network_options *o)
{
    return ft__size_classifier(file, rename, "conv1.weight", "linear.weight", o)
        && ft__has_blocks(file, rename, network);
}

/* ---- MobileNet v1: Howard et al. 2017; TensorFlow's SAME padding, ReLU6, eps 1e-3 ---- */

static ft_node ft__mobile_layer(ft__builder *b, const char *conv, const char *norm,
                                const char *activation, ft_node x, int channels, int kernel,
                                int stride, int groups)
{
    ft_conv2d_options c;
    ft_batch_norm_options n;
    ft_activation_options none;
    memset(&c, 0, sizeof c);
    memset(&n, 0, sizeof n);
    memset(&none, 0, sizeof none);
    c.kernel[0] = kernel;
    c.stride[0] = stride;
    c.groups = groups;
    c.same = c.no_bias = true;
    n.eps = 1e-3f;
    n.momentum = 0.01f;
    x = ft_batch_norm(b->m, norm, ft_conv2d(b->m, conv, x, channels, c), n);
    return ft_activation(b->m, "relu6", activation, x, none);
}

static ft_node ft__build_mobilenet(ft__builder *b)
{
    static const int channels[] = {64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024,
                                   1024};
    ft_linear_options head;
    ft_node x = ft__picture_input(b);
    int i, in = (int)(32 * b->o.width); /* exact but for the rounding down: see below */
    memset(&head, 0, sizeof head);
    x = ft__mobile_layer(b, "features.0.conv", "features.0.bn", "features.0.relu", x, in, 3, 2, 1);
    for (i = 0; i < 13; ++i) {
        char name[64], one[128], two[128], three[128];
        int stride = i == 1 || i == 3 || i == 5 || i == 11 ? 2 : 1;
        int out = (int)((float)channels[i] * b->o.width);
        snprintf(name, sizeof name, "features.%d", i + 1);
        x = ft__mobile_layer(b, ft__part(one, name, "dw_conv"), ft__part(two, name, "dw_bn"),
                             ft__part(three, name, "dw_relu"), x, in, 3, stride, in);
        x = ft__mobile_layer(b, ft__part(one, name, "pw_conv"), ft__part(two, name, "pw_bn"),
                             ft__part(three, name, "pw_relu"), x, out, 1, 1, 1);
        in = out;
    }
    x = ft_flatten(b->m, "flatten", ft_global_avg_pool(b->m, "avgpool", x));
    return ft__classifier(b, ft_linear(b->m, "classifier", x, b->o.classes, head),
                          ft__resize_for(b->o.image_size), ft__halves, ft__halves);
}

/* The widest layer gives the width: floor(floor(1024 w) c / 1024) = floor(c w) for every power of
   two c below 1024, so all narrower layers get the sizes that they have in the file. */
static bool ft__matches_mobilenet(const ft__network *network, const ft_file *file,
                                  const char *rename, ft_network_options *o)
{
    (void)network;
    o->width = (float)ft__size_in_file(file, rename, "features.13.pw_conv.weight", 0) / 1024;
    return o->width > 0 && ft__size_classifier(file, rename, "features.0.conv.weight",
                                               "classifier.weight", o);
}

/* ---- The small CNN of Keras' tutorials, Keras' initialisers; pixels from -1 to 1, as for
   MobileNet ---- */
static ft_node ft__build_keras_cnn(ft__builder *b)
{
    ft_conv2d_options conv;
    ft_pool2d_options pool;
    ft_linear_options linear;
    ft_dropout_options half;
    ft_node x;
    int i;
    memset(&conv, 0, sizeof conv);
    memset(&pool, 0, sizeof pool);
    memset(&linear, 0, sizeof linear);
    memset(&half, 0, sizeof half);
    conv.kernel[0] = 3;
    conv.same = true;
    pool.kernel[0] = 2;
    b->m->keras_initialisers = true;
    x = ft__picture_input(b);
    for (i = 1; i <= 5; ++i) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", i);
        x = ft_conv2d(b->m, name, x, 16 << i, conv);
        snprintf(name, sizeof name, "relu%d", i);
        x = ft__relu(b, name, x);
        snprintf(name, sizeof name, "pool%d", i);
        x = ft_max_pool2d(b->m, name, x, pool);
    }
    x = ft_linear(b->m, "fc1", ft_flatten(b->m, "flatten", x), b->o.adjusted ? 256 : 1024, linear);
    x = ft_dropout(b->m, "drop", ft__relu(b, "relu6", x), half);
    return ft__classifier(b, ft_linear(b->m, "fc2", x, b->o.classes, linear), 0,
                          ft__halves, ft__halves);
}

static bool ft__matches_keras_cnn(const ft__network *network, const ft_file *file,
                                  const char *rename, ft_network_options *o)
{
    (void)network;
    o->adjusted = ft__size_in_file(file, rename, "fc1.weight", 0) == 256;
    return ft__size_classifier(file, rename, "conv1.weight", "fc2.weight", o)
        && ft__find_renamed(file, rename, "conv5.weight") >= 0;
}
