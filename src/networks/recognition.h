#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "nodes/nodes.h"
#include "graph/surgery.h"
#include "formats/tensor_files.h"
#include "formats/weights.h"
#include "text/tokenizing.h"
#include "networks/images.h"
#include "networks/text.h"
#include "networks/bag_of_words.h"
#include "networks/encoders.h"
#include "networks/decoders.h"
#include "networks/vision_transformers.h"

/* =============================================================================================
   [SECTION] networks/recognition: The table of networks, and recognition
   ============================================================================================= */

/* Those of a family that is left out have no functions. */
#define FT__NETWORK(family, name, build, matches)                                                 \
    name, FT__HAS_##family ? build : NULL, FT__HAS_##family ? matches : NULL
static const ft__network ft__networks[] = {
    {FT__NETWORK(RESNET, "resnet18", ft__build_resnet, ft__matches_resnet),
     1000, 224, false, {2, 2, 2, 2}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet34", ft__build_resnet, ft__matches_resnet),
     1000, 224, false, {3, 4, 6, 3}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet50", ft__build_resnet, ft__matches_resnet),
     1000, 224, true, {3, 4, 6, 3}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet20", ft__build_cifar_resnet, ft__matches_cifar_resnet),
     10, 32, false, {3, 3, 3, 0}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet32", ft__build_cifar_resnet, ft__matches_cifar_resnet),
     10, 32, false, {5, 5, 5, 0}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet44", ft__build_cifar_resnet, ft__matches_cifar_resnet),
     10, 32, false, {7, 7, 7, 0}, NULL, NULL},
    {FT__NETWORK(RESNET, "resnet56", ft__build_cifar_resnet, ft__matches_cifar_resnet),
     10, 32, false, {9, 9, 9, 0}, NULL, NULL},
    {FT__NETWORK(MOBILENET, "mobilenet_v1", ft__build_mobilenet, ft__matches_mobilenet),
     1000, 224, false, {0}, NULL, NULL},
    {FT__NETWORK(KERAS_CNN, "keras_cnn", ft__build_keras_cnn, ft__matches_keras_cnn),
     10, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(RECURRENT, "char_rnn", ft__build_char_rnn, ft__matches_char_rnn),
     2, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(RECURRENT, "lstm_lm", ft__build_lstm_lm, ft__matches_lstm_lm),
     2, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(RECURRENT, "lstm_classifier", ft__build_lstm_classifier,
                 ft__matches_text_classifier), 2, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(RECURRENT, "gru_classifier", ft__build_gru_classifier,
                 ft__matches_text_classifier), 2, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(ARITHMETIC, "bag_of_words", ft__build_bag_of_words, ft__matches_bag_of_words),
     2, 32, false, {0}, NULL, NULL},
    {FT__NETWORK(TRANSFORMERS, "bert", ft__build_bert, ft__matches_encoder),
     2, 32, false, {0}, FT__ENCODER_LACKS, FT__ENCODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "roberta", ft__build_roberta, ft__matches_encoder),
     2, 32, false, {0}, FT__ENCODER_LACKS, FT__ENCODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "distilbert", ft__build_distilbert, ft__matches_encoder),
     2, 32, false, {0}, FT__ENCODER_LACKS, FT__ENCODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "gpt2", ft__build_gpt2, ft__matches_decoder),
     0, 32, false, {0}, FT__DECODER_LACKS, FT__DECODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "qwen3", ft__build_qwen3, ft__matches_decoder),
     0, 32, false, {0}, FT__DECODER_LACKS, FT__DECODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "qwen2", ft__build_qwen2, ft__matches_decoder),
     0, 32, false, {0}, FT__DECODER_LACKS, FT__DECODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "llama", ft__build_llama, ft__matches_decoder),
     0, 32, false, {0}, FT__DECODER_LACKS, FT__DECODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "meta_llama", ft__build_meta_llama, ft__matches_decoder),
     0, 32, false, {0}, FT__DECODER_LACKS, FT__DECODER_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "vit", ft__build_vit, ft__matches_vision),
     1000, 224, false, {0}, FT__VIT_LACKS, FT__VIT_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "deit", ft__build_deit, ft__matches_vision),
     1000, 224, false, {0}, FT__VIT_LACKS, FT__VIT_HOLDS},
    {FT__NETWORK(TRANSFORMERS, "dinov2", ft__build_dinov2, ft__matches_vision),
     1000, 224, false, {0}, FT__VIT_LACKS, FT__VIT_HOLDS}};

enum { FT__NETWORKS = sizeof ft__networks / sizeof ft__networks[0] };

static const char *ft__network_names(char *text, size_t size)
{
    int i;
    text[0] = 0;
    for (i = 0; i < FT__NETWORKS; ++i)
        if (ft__networks[i].build) ft__add_name(text, size, ft__networks[i].name);
    return text;
}

static const ft__network *ft__network_named(ft_model *m, const char *name)
{
    char names[400];
    int i;
    for (i = 0; i < FT__NETWORKS; ++i)
        if (name && ft__networks[i].build && strcmp(ft__networks[i].name, name) == 0)
            return &ft__networks[i];
    ft__fail(&m->context, FT_INVALID, "%s: unknown network; it must be one of %s",
             name ? name : "(none)", ft__network_names(names, sizeof names));
    return NULL;
}

ft_node ft_network(ft_model *m, const char *name, ft_network_options options)
{
    const ft__network *network = NULL;
    int nodes;
    bool keras;
    ft_node none = {0}, output, old_output, old_loss;
    ft__builder b;
    if (!ft__usable(m)) return none;
    nodes = m->node_count;
    keras = m->keras_initialisers;
    old_output = m->output;
    old_loss = m->loss;
    if (ft__given(&m->context, name, "ft_network: the name")) network = ft__network_named(m, name);
    if (!network) return none;
    memset(&b, 0, sizeof b);
    b.m = m;
    b.o = options;
    if (b.o.classes == 0)
        b.o.classes = b.o.task == FT_TASK_REGRESSION ? 1 : network->classes;
    if (b.o.image_size == 0) b.o.image_size = network->image_size;
    if (b.o.channels == 0) b.o.channels = 3;
    if (b.o.words == 0 && m->tokenizer) b.o.words = ft_tokenizer_count(m->tokenizer);
    if (b.o.width == 0) b.o.width = 1;
    if (b.o.classes < (network->classes > 0) || b.o.image_size < 1 || b.o.image_size > 1 << 20
        || b.o.channels < 1 || b.o.channels > 4 || !(b.o.width > 0 && b.o.width < 100)) {
        ft__fail(&m->context, FT_INVALID, "%s: %d classes, images of %d pixels, %d channels, width"
                 " %g are not supported", name, b.o.classes, b.o.image_size, b.o.channels,
                 (double)b.o.width);
        return none;
    }
    b.bottleneck = network->bottleneck;
    memcpy(b.blocks, network->blocks, sizeof b.blocks);
    m->keras_initialisers = options.keras_initialisers;
    output = network->build(&b);
    if (ft__ok(&m->context) && ft__set_architecture(m, network->name) == FT_OK) return output;
    ft__remove_last_nodes(m, nodes);
    m->output = old_output;
    m->loss = old_loss;
    m->keras_initialisers = keras;
    return none;
}

/* Finds which network a weights file holds, by its names and shapes, and its classes, channels and
   width; if *name is given, only these, if it is that network. */
static ft_status ft__recognise(ft_model *m, ft_file *file, const char *rename, const char **name,
                               ft_network_options *options)
{
    char names[400];
    ft__list first;
    int i;
    if (!ft__usable(m)) return ft__status_of(m);
    do {
        for (i = 0; i < FT__NETWORKS; ++i) {
            ft_network_options o = *options;
            if (*name && strcmp(*name, ft__networks[i].name) != 0) continue;
            if (!ft__networks[i].build
                || !ft__networks[i].matches(&ft__networks[i], file, rename, &o)) continue;
            *name = ft__networks[i].name;
            *options = o;
            file->may_lack = ft__networks[i].may_lack;
            file->may_hold = ft__networks[i].may_hold;
            ft__say_prefix(file);
            return FT_OK;
        }
        file->skip = ft__next_prefix(file, file->skip);
    } while (file->skip);
    if (*name) return FT_OK; /* loading will list what does not fit */
    memset(&first, 0, sizeof first);
    for (i = 0; i < ft_file_count(file) && i < 4; ++i)
        ft__list_add(&first, ft_file_tensor(file, i).name, "");
    return ft__fail(&m->context, FT_UNSUPPORTED, "%s: not the weights of a known network (%s); it"
                    " has %d tensors: %s ...", file->path, ft__network_names(names, sizeof names),
                    ft_file_count(file), first.text);
}
