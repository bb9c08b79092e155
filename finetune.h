/* finetune.h - fine-tune pretrained networks in C: one header, no Python on the way in or out.

   In ONE C or C++ file of your program:

       #include <stb/stb_image.h>           (optional: only if you read image files)
       #define FINETUNE_IMPLEMENTATION
       #include "finetune.h"

   Everywhere else just #include "finetune.h". Link with -lm, and -pthread on POSIX systems.

   The shortest useful program:

       ft_model *m = ft_create((ft_desc){0});
       ft_load(m, "resnet18.safetensors", (ft_load_options){0});
       ft_data *photos = ft_image_folder(m, "photos", (ft_image_folder_options){0});
       ft_finetune_result r = ft_finetune(m, photos, (ft_finetune_options){0});
       ft_save(m, "mine.safetensors", (ft_save_options){0});
       printf("%s\n%s\n", r.choice, ft_error(m) ? ft_error_text(m) : "saved");
       ft_destroy(m);

   INDEX
     [SECTION] 1 Manual
     [SECTION] 2 Types and options
     [SECTION] 3 Functions
     [SECTION] 4 Platform, checked sizes, allocator, errors
     [SECTION] 5.1 Random numbers
     [SECTION] 5.2 Strings
     [SECTION] 5.3 Files
     [SECTION] 5.4 JSON
     [SECTION] 5.5 Threads
     [SECTION] 5.6 Sorting
     [SECTION] 6.1 Elementary functions
     [SECTION] 6.2 Matrix multiplication
     [SECTION] 6.3 Convolution kernels
     [SECTION] 6.4 Winograd's convolution
     [SECTION] 6.5 Recurrent cells
     [SECTION] 7 Nodes and parameters
     [SECTION] 7.1 Initialisers
     [SECTION] 8.0 The table of operators
     [SECTION] 8.1 Activations
     [SECTION] 8.2 Convolution
     [SECTION] 8.2.1 Convolution in Winograd's form
     [SECTION] 8.2.2 Convolution in one dimension
     [SECTION] 8.3 Linear
     [SECTION] 8.4 Normalisation
     [SECTION] 8.4.1 Layer normalisation
     [SECTION] 8.5 Pooling
     [SECTION] 8.6 Shape and arithmetic
     [SECTION] 8.6.1 Permute, gather, matmul
     [SECTION] 8.7 Losses
     [SECTION] 8.8 Embedding and pooling over steps
     [SECTION] 8.9 Recurrent layers
     [SECTION] 8.10 The rows
     [SECTION] 9.1 OpenCL: the library
     [SECTION] 9.2 OpenCL: memory
     [SECTION] 9.2.1 OpenCL: the program
     [SECTION] 9.3 OpenCL: kernels
     [SECTION] 9.4 OpenCL: operators
     [SECTION] 9.5 OpenCL: more operators
     [SECTION] 9.6 OpenCL: where an operator runs
     [SECTION] 10 Graph: nodes and plan
     [SECTION] 10.1 Graph: running
     [SECTION] 11 Optimisers and schedules
     [SECTION] 12.1 safetensors
     [SECTION] 12.2 PyTorch's zip files
     [SECTION] 12.3 Tensor files
     [SECTION] 12.4 Loading weights by name
     [SECTION] 12.5 Model files and checkpoints
     [SECTION] 12.6 Unicode
     [SECTION] 12.7 Tokenisers
     [SECTION] 12.8 Tokeniser files
     [SECTION] 12.9 Files of rows
     [SECTION] 13 Ready-made networks
     [SECTION] 14.1 Images
     [SECTION] 14.2 Data sources
     [SECTION] 14.2.1 Image folders
     [SECTION] 14.2.2 Texts
     [SECTION] 14.2.3 Streams of text
     [SECTION] 14.3 Metrics
     [SECTION] 14.4 Fit
     [SECTION] 14.4.1 The run
     [SECTION] 14.5 The default recipe
     [SECTION] 14.6 Evaluate and predict
     [SECTION] 15 Public functions
*/
#ifndef FINETUNE_H
#define FINETUNE_H

/* =============================================================================================
   [SECTION] 1 Manual

   WHAT FINE-TUNING IS
     A network that others trained on much data has learnt features that serve other tasks too. One
     replaces its last layer (the head) by a new one for one's own classes, trains that on the
     frozen features of one's own few pictures, and, where that is not enough, trains the layers
     below as well, gently. ft_finetune does just this; ft_fit trains whatever is not frozen;
     ft_feed, ft_forward, ft_backward and ft_update are the loop by hand.

   CONCEPTS
     model      ft_model: a network, its weights, and everything made with it.
     node       one tensor and the operator that makes it. Parameters and inputs are nodes too. Ids
                never change; nodes have names, and a layer's parameters are called
                "<layer>.weight", "<layer>.bias" as in PyTorch, so that weights load by name.
     shape      NCHW for pictures, OIHW for weights; FT_BATCH stands for "as many as there are".
     length     sequences have FT_LENGTH in their shape: how many steps a run has is set by
                ft_set_length. Of a batch of sequences that differ, the shorter ones are padded: an
                I32 input "lengths" [N] says how many steps of each are real, operators that must
                not see the padding take that node, and labels of -1 are not counted.
     frozen     no gradient, no optimiser state, no weight decay; a batch norm whose weight and
                bias are frozen runs in evaluation form and its statistics stand still; a frozen
                dropout is off. ft_fit takes a digest of all frozen bytes before and after, and
                reports both.
     prefix     what comes before the first trained parameter. It runs in inference form (batch
                norm folded into the convolution), and ft_fit keeps its outputs in memory, so that
                each picture goes through it once, not once an epoch; with ft_desc.cache, once for
                all runs with the same weights and pictures.
     view       a picture as it is (view 0), or augmented (others): shifted, cropped, mirrored.

   OWNERSHIP
     The model owns its nodes, its data sources and its plans; ft_destroy frees them all. What a
     function returns as a pointer belongs to the model or to the object that it was asked of. An
     ft_file is closed by ft_file_close, before the model is destroyed.

   ERRORS
     The first error sticks to the model: from then on every call returns at once, so that one look
     at ft_error(m) at the end is enough. ft_error_text says what, where, and what was expected.
     ft_clear_error starts anew; after FT_NOT_FINITE the weights are those of the last good epoch,
     and after an error of a device too: it is given up then, and the processor goes on.
     The library never aborts, exits, prints or raises a signal.

   THREADS
     A model is used by one thread at a time, different models by different threads at once. Inside,
     a model has ft_desc.threads threads of its own, or calls ft_desc.parallel_for. A data source's
     get() is called by several threads.

   DEVICES
     ft_desc.device names an OpenCL device (ft_devices lists them). Before an operator runs there
     for a shape, its kernels are compared with the processor on a sample of two and, with
     ft_desc.clock, timed: what is wrong, or on a GPU slower, runs on the processor, and the log
     says so. The choices go into the checkpoint.

   DETERMINISM
     The same machine, SIMD level and seed give the same bits, whatever the number of threads. A
     sample's prediction does not depend on the batch that it is in. A run that was killed and is
     started again with the same options and its checkpoint ends with the same bytes.

   MEMORY
     Nothing is allocated in a training step after the first. ft_plan tells what a run will take;
     ft_desc.memory_budget is kept, or refused with FT_MEMORY. All memory can come from the
     caller's allocator or from one block (ft_desc.arena).

   FORMATS
     read    safetensors (all types; F16, BF16, integers become float32), PyTorch's .pt and .pth
             as torch.save writes them since 1.6, holding a state_dict or a checkpoint that has one;
             vocabularies: vocab.txt, vocab.json with merges.txt, tokenizer.json of WordPiece and
             of byte-level BPE, llama2.c's tokenizer.bin
     write   safetensors: weights under their own names, the network's description in __metadata__

   CONFIGURATION, before the #include
     FINETUNE_IMPLEMENTATION   in one file
     FINETUNE_NO_THREADS       everything runs on the calling thread
     FINETUNE_NO_SIMD          plain C only
     FINETUNE_NO_POSIX         files through stdio; folders cannot be listed; no threads
     FINETUNE_NO_PYTORCH       leave out the reader of PyTorch's files, ...
     FINETUNE_NO_RESNET        ... the ResNets by name,
     FINETUNE_NO_MOBILENET     ... MobileNet,
     FINETUNE_NO_KERAS_CNN     ... the small CNN of Keras
    FINETUNE_OPENCL           ft_desc.device may name an OpenCL device; needs kernels.cl beside the
                              header and CL/cl.h to compile, nothing to link (-ldl before glibc
                              2.34), and starts where there is no OpenCL
     FINETUNE_API              before each public function; default: extern

   LIMITS
     Pictures and vectors, float32. Sequences and ONNX are not there yet. OpenCL was run on PoCL
     only; GPUs are written for and checked when they run, and none has been measured.
     Tensors have up to 6 dimensions of up to 2^31 - 1.
   ============================================================================================= */

/* =============================================================================================
   [SECTION] 2 Types and options
   ============================================================================================= */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "finetune.h needs NaN and infinity to be honoured: compile without -ffast-math"
#endif

#define FINETUNE_VERSION "0.1.0"
#define FINETUNE_MAX_RANK 6 /* dimensions of a tensor, the batch included */

#ifdef __cplusplus
extern "C" {
#endif

/* What can go wrong: name, and what it means. ft_error_text() says where and with which values. */
#define FINETUNE_STATUS_LIST(X)                                                                  \
    X(OK, "no error")                                                                            \
    X(INVALID, "a wrong argument, or a call out of order")                                       \
    X(SHAPE, "tensors that do not fit each other")                                               \
    X(MEMORY, "out of memory, or over the stated budget")                                        \
    X(IO, "a file or folder that cannot be read or written")                                     \
    X(FORMAT, "a file whose content is damaged or of an unknown kind")                           \
    X(MISMATCH, "weights that do not match the network by name or shape")                        \
    X(NOT_FINITE, "a loss or weight that is NaN or infinite")                                    \
    X(UNSUPPORTED, "something that this build or this library cannot do")                        \
    X(DEVICE, "a GPU, its driver or its OpenCL failed")
#define FINETUNE__STATUS_ENUM(name, text) FT_##name,
typedef enum ft_status { FINETUNE_STATUS_LIST(FINETUNE__STATUS_ENUM) FT_STATUS_COUNT } ft_status;

/* Element types. Nodes hold F32 (or I32 for labels and indices); files may hold any of them. */
#define FINETUNE_TYPE_LIST(X)                                                                    \
    X(F32, 4) X(I32, 4) X(F16, 2) X(BF16, 2) X(F64, 8) X(I64, 8) X(I16, 2) X(I8, 1) X(U8, 1)     \
    X(BOOL, 1)
#define FINETUNE__TYPE_ENUM(name, bytes) FT_##name,
typedef enum ft_type { FINETUNE_TYPE_LIST(FINETUNE__TYPE_ENUM) FT_TYPE_COUNT } ft_type;

/* As sizes: "as many samples as the batch holds", "as many steps as the run's sequences have". */
enum { FT_BATCH = -1, FT_LENGTH = -2 };

typedef struct ft_shape { int rank; int size[FINETUNE_MAX_RANK]; } ft_shape;
typedef struct ft_node { int id; } ft_node; /* {0} is "failed", and is accepted everywhere */
typedef struct ft_model ft_model;
typedef struct ft_data ft_data;
typedef struct ft_file ft_file; /* an opened file of tensors */

/* ---- What the host program may want to own; all zero is a good default ---- */

/* Both or neither. allocate: `alignment` is a power of two, NULL means "no memory". Called by the
   thread that uses the model, never by the library's own threads. */
typedef struct ft_allocator {
    void *user;
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes);
} ft_allocator;

/* File operations; replace all or none. Paths are UTF-8. Called by several threads at once, each
   with a file of its own. */
typedef struct ft_files {
    void *user;
    void *(*open)(void *user, const char *path, bool write); /* NULL: it cannot be opened */
    int64_t (*size)(void *user, void *file);                 /* negative: unknown */
    size_t (*read)(void *user, void *file, uint64_t offset, void *to, size_t bytes);
    size_t (*write)(void *user, void *file, const void *from, size_t bytes); /* appends */
    bool (*close)(void *user, void *file);   /* a written file reaches the disk before `true` */
    bool (*rename)(void *user, const char *from, const char *to); /* replaces `to` at once */
    bool (*remove)(void *user, const char *path);
    const void *(*map)(void *user, void *file, size_t bytes);     /* NULL: cannot be mapped */
    void (*unmap)(void *user, const void *memory, size_t bytes);
    /* Calls each() for every entry of a folder, in any order; false: it is not a folder. */
    bool (*list)(void *user, const char *path,
                 void (*each)(void *context, const char *name, bool is_folder), void *context);
} ft_files;

/* Data-parallel training; reserved: size must be 0 or 1 in this version. */
typedef struct ft_communication {
    int rank, size;
    void *user;
    bool (*start)(void *user, float *sum, size_t count);
    bool (*wait)(void *user);
    bool (*broadcast)(void *user, void *data, size_t bytes, int root);
} ft_communication;

typedef struct ft_desc {
    uint64_t seed;                /* of every random choice: weights, order, augmentation */
    int threads;                  /* 0: one per processor */
    size_t memory_budget;         /* bytes that the model may hold in all; 0: no limit */
    ft_allocator allocator;       /* default: malloc */
    void *arena;                  /* or: one fixed block that everything is taken from ... */
    size_t arena_bytes;           /* ... and its size */
    ft_files files;               /* default: the operating system's */
    void (*log)(void *user, const char *line); /* what the library has to say; default: nothing */
    void *log_user;
    /* The app's own threads: calls body(context, i) for i in 0..count-1, in any order, and returns
       when all are done. Default: the library's thread pool. */
    void (*parallel_for)(void *user, void (*body)(void *context, int index), void *context,
                         int count);
    void *parallel_user;
    /* Seconds from any start. Given, it is asked before and after every operator, and ft_node_time
       tells what each took. */
    double (*clock)(void *user);
    void *clock_user;
    const char *device;           /* NULL or "cpu"; with FINETUNE_OPENCL also "gpu" (the first one),
                                     "opencl:P:D" (device D of platform P), and "auto": a GPU if
                                     there is one that works, else the processor */
    const char *simd;             /* NULL: the best that the processor has; or one of
                                     "none", "sse2", "avx2", "avx512", "neon" */
    ft_communication communication;
    const char *opencl_library;   /* the OpenCL loader's path; default: the system's */
    const char *clblast_library;  /* likewise */
    const char *kernels_path;     /* compile this kernels.cl instead of the one built in */
    /* A folder, which must exist, for what took long to compute and may be wanted by the next run:
       the outputs of frozen layers, and which pictures can be read. Nothing is taken from it but
       what was made from the same weights, preprocessing and bytes of files. The kernels that a
       driver compiled are kept there too, so no stranger may write to it. NULL: none. */
    const char *cache;
} ft_desc;

/* One OpenCL device of this machine. */
typedef struct ft_device_info {
    char device[32];              /* what ft_desc.device takes: "opencl:0:1" */
    char name[128], platform[128], driver[64]; /* as the driver tells; driver: its version */
    uint64_t memory;              /* bytes */
    int compute_units;
    bool is_processor;            /* the machine's own: "gpu" and "auto" pass it by */
} ft_device_info;

/* ---- Building a network ---- */

typedef enum ft_initialiser {
    FT_INIT_DEFAULT,          /* PyTorch's, or Keras' where ft_network_options says so */
    FT_INIT_KAIMING_UNIFORM,  /* PyTorch's layers: U(-b, b), b = 1/sqrt(fan_in) */
    FT_INIT_KAIMING_NORMAL,   /* torchvision's ResNets: N(0, 2/fan_out) */
    FT_INIT_XAVIER_UNIFORM,   /* Keras' layers: U(-b, b), b = sqrt(6/(fan_in + fan_out)) */
    FT_INIT_ZEROS,
    FT_INIT_ONES
} ft_initialiser;

/* Seconds in a node's operator since the model was created. */
typedef struct ft_time { double forward, backward; } ft_time;

typedef struct ft_input_options {
    ft_type type; /* FT_F32 or FT_I32 */
    int size[FINETUNE_MAX_RANK - 1]; /* of one sample, e.g. {3, 224, 224}, or {FT_LENGTH, 64}: as
                                        many steps as ft_set_length says; all zero: one number */
} ft_input_options;

typedef struct ft_parameter_options {
    int size[FINETUNE_MAX_RANK];
    ft_initialiser initialiser;
    int fan_in, fan_out; /* 0: from the shape, as for weights [out, in, ...] */
    bool buffer;         /* state that is saved but never trained, as running_mean */
} ft_parameter_options;

/* Pairs are height, width; a second value of 0 means "same as the first".
   Padding: {p} is p on all four sides, otherwise top, left, bottom, right. */
typedef struct ft_conv2d_options {
    int kernel[2];          /* required */
    int stride[2];          /* default 1 */
    int padding[4];         /* default 0 */
    int dilation[2];        /* default 1 */
    int groups;             /* default 1; = in_channels is a depthwise convolution */
    bool same;              /* TensorFlow's SAME: output = ceil(input / stride), the odd row and
                               column of padding at the bottom and right; padding is ignored */
    bool no_bias;
    ft_node weight, bias;   /* use these nodes instead of making "<name>.weight" and ".bias" */
    ft_initialiser initialiser;
} ft_conv2d_options;

typedef struct ft_linear_options {
    bool no_bias;
    ft_node weight, bias;   /* as in ft_conv2d_options; weight is [out, in] */
    ft_initialiser initialiser;
} ft_linear_options;

typedef struct ft_batch_norm_options {
    float eps;              /* default 1e-5 */
    float momentum;         /* default 0.1: running = 0.9 * running + 0.1 * batch, as PyTorch */
} ft_batch_norm_options;

typedef struct ft_conv1d_options {
    int kernel;             /* required */
    int stride;             /* default 1 */
    int padding[2];         /* {p} is p on both sides, otherwise before, after */
    int dilation;           /* default 1 */
    int groups;             /* default 1 */
    bool same;              /* output as long as ceil(input / stride), as in ft_conv2d_options */
    bool causal;            /* pads before only, so that no step sees a later one */
    bool no_bias;
    ft_node weight, bias;   /* as in ft_conv2d_options; weight is [out, in / groups, kernel] */
    ft_initialiser initialiser;
} ft_conv1d_options;

typedef struct ft_layer_norm_options {
    float eps;              /* default 1e-5 */
} ft_layer_norm_options;

typedef struct ft_matmul_options {
    bool transpose_a, transpose_b; /* take the last two dimensions the other way round */
} ft_matmul_options;

typedef struct ft_pool2d_options {
    int kernel[2];          /* required */
    int stride[2];          /* default: the kernel */
    int padding[4];         /* default 0 */
    bool same;              /* as in ft_conv2d_options */
    bool ceil_mode;         /* keep a last window that starts inside but ends outside */
    bool exclude_padding;   /* average only: divide by the pixels inside, as Keras does */
} ft_pool2d_options;

typedef struct ft_dropout_options {
    float probability;      /* of a zero; default 0.5 */
    bool locked;            /* one mask for all of dimension 1: the steps of [N, L, C] (Gal and
                               Ghahramani 2016), or a word's features in a weight [V, E] */
} ft_dropout_options;

typedef struct ft_activation_options {
    float slope;            /* leaky_relu: default 0.01 */
    float alpha;            /* elu: default 1 */
    int axis;               /* softmax, log_softmax: 0 means the last one; 1 the channels */
    bool tanh_approximation;/* gelu */
} ft_activation_options;

typedef struct ft_pad_options {
    int before[FINETUNE_MAX_RANK], after[FINETUNE_MAX_RANK]; /* zeros to add, per dimension */
} ft_pad_options;

typedef struct ft_slice_options { /* x[start:stop:step] in every dimension but the batch */
    int start[FINETUNE_MAX_RANK];
    int stop[FINETUNE_MAX_RANK];  /* 0: to the end */
    int step[FINETUNE_MAX_RANK];  /* default 1 */
} ft_slice_options;

typedef struct ft_embedding_options {
    int padding_index;      /* this word gets no gradient, and starts as zeros; with `padded` */
    bool padded;
    ft_node weight;         /* use this node [words, features] instead of making one */
} ft_embedding_options;

typedef enum ft_step_pooling { FT_POOL_LAST, FT_POOL_MEAN, FT_POOL_MAX } ft_step_pooling;
typedef struct ft_step_pool_options {
    ft_step_pooling kind;
    bool bidirectional;     /* FT_POOL_LAST: the second half of the features is of a reversed RNN,
                               which ends at the first step */
} ft_step_pool_options;

/* Of ft_lstm, ft_gru and ft_rnn. */
typedef struct ft_recurrent_options {
    int layers;             /* default 1 */
    bool bidirectional;
    bool no_bias;
    bool relu;              /* ft_rnn: relu instead of tanh */
    float dropout;          /* between layers, not behind the last; default 0 */
    bool locked;            /* one dropout mask for all steps (Gal and Ghahramani 2016) */
    float weight_drop;      /* dropout of weight_hh (Merity et al. 2017); default 0 */
    bool carry;             /* a batch goes on where the one before ended: the state is kept in the
                               model as "<name>.hidden_l0" and so on, until ft_reset_state */
    ft_node lengths;        /* I32 [N]: steps behind are padding; default: there is none */
    ft_node hidden, cell;   /* first states [N, layers * directions * features], instead of zeros;
                               of layer 0 forward, layer 0 reverse, layer 1 ... */
} ft_recurrent_options;

typedef struct ft_loss_options {
    float label_smoothing;  /* cross_entropy: default 0 */
} ft_loss_options;

typedef struct ft_network_options {
    int classes;            /* default: what the network is usually published with */
    int image_size;         /* default: likewise (224, or 32 for the CIFAR networks) */
    int channels;           /* of the image; default 3 */
    float width;            /* mobilenet_v1: default 1 */
    bool adjusted;          /* keras_cnn: a dense layer of 256 instead of 1024 */
    bool keras_initialisers;
} ft_network_options;

/* How a picture becomes the network's input; stored in the model file. */
typedef struct ft_preprocessing {
    int width, height, channels; /* of the network's input */
    int resize;             /* the shorter side first becomes this (Pillow's antialiased bilinear),
                               then the centre is cut out; 0: both sides are resized to fit */
    float mean[4], std[4];  /* (pixel / 255 - mean) / std */
} ft_preprocessing;

/* ---- Files ---- */

typedef struct ft_weights_options {
    const void *memory;     /* load from here instead of from a path ... */
    size_t bytes;
    const char *rename;     /* "from=to,from=to": a leading part of names in the file to replace */
    bool allow_missing;     /* parameters that the file lacks keep their values */
    bool allow_unexpected;  /* tensors that the network lacks are passed over */
    bool allow_mismatched;  /* tensors of another shape are passed over (a new head) */
    bool map;               /* map the file instead of reading it; it must not shrink meanwhile */
} ft_weights_options;

typedef struct ft_load_options {
    ft_weights_options weights;
    const char *architecture;   /* default: recognised from the names and shapes in the file */
    ft_network_options network;
} ft_load_options;

typedef struct ft_save_options {
    ft_type type;           /* FT_F32 (default), FT_F16 or FT_BF16 */
} ft_save_options;

typedef struct ft_tensor_info { /* one tensor of a file; pointers live as long as the ft_file */
    const char *name;
    ft_type type;
    ft_shape shape;
    uint64_t offset;        /* of its first byte in the file */
    uint64_t bytes;
    int64_t stride[FINETUNE_MAX_RANK]; /* in elements; row-major unless PyTorch stored a view */
} ft_tensor_info;

/* ---- Text ---- */

typedef struct ft_tokenizer ft_tokenizer; /* turns a text into numbers, and back */

typedef enum ft_tokenizer_kind {
    FT_CHARACTERS,          /* a character is a piece */
    FT_WORDS,               /* words as BERT parts them, rare ones are "<unk>" */
    FT_WORDPIECE,           /* BERT's: the longest pieces of each word, "##" before those inside */
    FT_BYTE_BPE,            /* GPT-2's: merged bytes */
    FT_SCORED_BPE           /* SentencePiece's BPE, as in llama2.c */
} ft_tokenizer_kind;

typedef struct ft_tokenizer_options {
    const void *memory;     /* load from here instead of from a path ... */
    size_t bytes;
    const char *merges;     /* of a vocab.json: its merges.txt; default: the one beside it */
    const void *merges_memory; /* or the text of it */
    size_t merges_bytes;
    bool cased;             /* of a vocab.txt: capitals and accents are kept */
} ft_tokenizer_options;

typedef struct ft_vocabulary_options { /* of a tokeniser that is built from texts */
    int minimum_count;      /* rarer words or characters are left out; default 1 */
    int most;               /* pieces at most; 0: no limit */
    bool cased;             /* words: capitals and accents are kept */
    bool spaces_only;       /* words: they end at spaces only, punctuation does not stand alone */
} ft_vocabulary_options;

typedef struct ft_tokenize_options {
    bool special;           /* with what the kind puts around a text: [CLS] ... [SEP], or BOS */
} ft_tokenize_options;

typedef struct ft_tokens { const int32_t *ids; int count; } ft_tokens;

/* ---- Data ---- */

/* Where a data source is to put one tensor of one sample. */
typedef struct ft_slot {
    const char *name;       /* of the input node: "input", "labels", ... */
    ft_type type;
    ft_shape shape;         /* of one sample, without the batch */
    void *values;           /* row-major */
    int length;             /* to be set by sequences: how many steps are real */
} ft_slot;

/* A source of samples, read at random. get() fills the slots that it knows and returns false for a
   sample that cannot be read (it is then left out). `view` 0 is the plain sample; others are
   augmented, and depend on (seed, index, view) alone. Called by several threads at once. */
typedef struct ft_source {
    void *user;
    int count;
    int classes;                       /* 0: the labels are not classes */
    bool (*get)(void *user, int index, int view, ft_slot *slots, int slot_count);
    int (*label)(void *user, int index);          /* optional: for stratified splits */
    uint64_t (*group)(void *user, int index);     /* optional: equal for samples that belong
                                                     together and must not be split */
    const char *(*name)(void *user, int index);   /* optional: e.g. the file's name */
    const char *(*class_name)(void *user, int c); /* optional */
    void (*release)(void *user);                  /* optional: called once, with the ft_data */
    /* Optional: a hash of all that get() makes this view from, the label among it. Without it
       nothing of this source is kept in ft_desc.cache. */
    uint64_t (*digest)(void *user, int index, int view);
    int (*length)(void *user, int index);         /* sequences: the steps of a sample */
    int streams;                       /* 0: samples are apart. Otherwise sample i + streams goes on
                                          where sample i ends: they are read in their order, so
                                          many to a batch, and state is carried between */
} ft_source;

typedef struct ft_augmentation {
    float shift;            /* up to this share of width and height in each direction */
    float scale;            /* random resized crop: down to this share of the area; 0: none */
    bool flip;              /* mirrored left to right in half of the views */
} ft_augmentation;

typedef struct ft_image_folder_options {
    int per_class;          /* use only this many of each class, drawn by the seed; 0: all */
    ft_augmentation augmentation; /* of views other than 0; all zero: chosen by ft_finetune */
    size_t cache_bytes;     /* keep decoded pictures in memory up to this; default 512 MiB */
    bool no_groups;         /* file names do not say which frames belong together */
    bool match_classes;     /* the folder's classes must be among the model's (for evaluation) */
} ft_image_folder_options;

typedef struct ft_array_options {
    int classes;
    const char *input, *labels; /* names of the nodes; default "input" and "labels" */
} ft_array_options;
typedef struct ft_text_options { /* of labelled texts */
    const char *text_column, *label_column; /* names in the first line, or numbers from 1; default:
                               "text", "sentence", ... and "label", "class", ...; where the first
                               line names none of them, it is data: the text, then the label */
    const char *format;     /* "tsv", "csv" or "jsonl"; default: how the path ends, else TSV */
    ft_tokenizer *tokenizer;/* default: the model's; where it has none, the words of these texts
                               become it */
    ft_vocabulary_options vocabulary; /* of those words */
    int longest;            /* tokens that are kept of a text; default 512 */
    int per_class;          /* use only so many texts of each class, drawn by the seed; 0: all */
    bool match_classes;     /* the labels must be among the model's classes (for evaluation) */
    bool unlabelled;        /* there are no labels: all texts are of one class */
    const void *memory;     /* a table in memory instead of a path */
    size_t bytes;
} ft_text_options;

typedef struct ft_stream_options { /* of a text for a language model */
    int streams;            /* rows of a batch: the text is cut into as many; default 32 */
    int steps;              /* of each in a batch: how far back gradients reach; default 64 */
    const char *text_column;/* of a table: its texts one after the other; default: a whole file */
    const char *format;     /* as in ft_text_options */
    ft_tokenizer *tokenizer;/* as in ft_text_options */
    ft_tokenizer_kind vocabulary_kind; /* FT_CHARACTERS (default) or FT_WORDS, where one is built */
    ft_vocabulary_options vocabulary;
    const void *memory;     /* instead of a path */
    size_t bytes;
} ft_stream_options;

/* ---- Training ---- */

typedef enum ft_optimizer { FT_ADAMW, FT_ADAM, FT_SGD } ft_optimizer;
typedef enum ft_schedule {
    FT_CONSTANT,
    FT_STEP,       /* times gamma after every step_epochs epochs */
    FT_COSINE,     /* to 0 at the end */
    FT_ONE_CYCLE   /* up from 1/25 over the first 30 %, then down to 1/25/10^4; cosine pieces */
} ft_schedule;

typedef struct ft_optimizer_options {
    ft_optimizer optimizer; /* default AdamW */
    float learning_rate;    /* default 1e-3 (SGD: 1e-2) */
    float momentum;         /* SGD: default 0 */
    bool nesterov;
    float beta1, beta2;     /* default 0.9, 0.999 */
    float eps;              /* default 1e-8 */
    float weight_decay;     /* default 0; AdamW's is decoupled from the gradient */
    float clip_norm;        /* gradients of a larger norm are scaled down to it; 0: never */
} ft_optimizer_options;

typedef struct ft_progress {
    int epoch, epochs;      /* from 0; of how many */
    int step, steps;        /* in this epoch, from 1 */
    int batch;              /* samples in this step */
    const char *stage;      /* "head", "all", ... */
    double loss, accuracy;  /* of the training samples of this epoch so far */
    float learning_rate;
    bool epoch_done;
    double held_back_accuracy, held_back_loss; /* at the end of an epoch; negative: not measured */
} ft_progress;

typedef struct ft_fit_options {
    int epochs;             /* default 10 */
    int batch_size;         /* default 32 */
    ft_optimizer_options optimizer;
    ft_schedule schedule;
    int step_epochs;        /* FT_STEP: default 10 */
    float gamma;            /* FT_STEP: default 0.1 */
    float warmup_epochs;    /* linear, from 0; default none */
    float hold_back;        /* share of the data that is not trained on but measured after each
                               epoch, split by class and group; default 0 */
    bool best;              /* end with the weights of the best held-back epoch, not the last */
    int patience;           /* stop after so many epochs without a better one; 0: never */
    bool no_cache;          /* compute the frozen prefix anew at each step */
    int views;              /* augmented views per sample for the cached prefix; default 8 */
    bool augment;           /* train on augmented views (the data says which) */
    size_t cache_bytes;     /* memory for the outputs of the frozen prefix; default 1 GiB. More is
                               read from ft_desc.cache, or without one computed in each epoch */
    const char *checkpoint; /* a file that a killed run continues from; NULL: none */
    int checkpoint_steps;   /* write it every so many steps, besides every epoch; 0: no */
    const char *stage;      /* a name for progress and checkpoint */
    bool (*progress)(void *user, const ft_progress *progress); /* false stops the run */
    void *progress_user;
} ft_fit_options;

typedef struct ft_digest { uint64_t frozen; int tensors; } ft_digest; /* of all frozen bytes */

typedef struct ft_fit_result {
    int epochs;             /* that ran */
    int best_epoch;         /* from 0; -1: no choice was made */
    double loss, accuracy;  /* of the training samples in the last epoch */
    double held_back_loss, held_back_accuracy; /* of the weights that were kept; negative: none */
    int held_back_correct, held_back_total;
    ft_digest before, after; /* equal, or the run would have failed */
    bool stopped;           /* by the progress function; the weights are as of that step */
} ft_fit_result;

typedef struct ft_finetune_options {
    int epochs;             /* of the last stage; default: chosen */
    int batch_size;         /* default 32 */
    float learning_rate;    /* default: chosen per stage */
    const char *freeze;     /* glob: freeze exactly this and skip the choice of a stage */
    const char *checkpoint;
    int checkpoint_steps;
    ft_augmentation augmentation; /* default: small shifts, never a flip */
    bool (*progress)(void *user, const ft_progress *progress);
    void *progress_user;
} ft_finetune_options;

typedef struct ft_finetune_result {
    char choice[256];       /* one line: what was trained, and why */
    ft_fit_result fit;      /* of the last stage */
} ft_finetune_result;

typedef struct ft_sample_result {
    int index, label, guess; /* of the sample in the data; its class; the most probable one ... */
    float probability;      /* ... and how probable the network takes it to be */
} ft_sample_result;

typedef struct ft_evaluate_options {
    int batch_size;         /* default 32 */
    int *confusion;         /* classes * classes numbers: [true class][predicted]; or NULL */
    void (*sample)(void *user, const ft_sample_result *result); /* called for each; or NULL */
    void *sample_user;
} ft_evaluate_options;

typedef struct ft_evaluation {
    int correct, total, skipped;
    double accuracy, low, high; /* with its 95 % Wilson interval */
    double loss;            /* of a language model: nats a token; perplexity is exp of it */
} ft_evaluation;

typedef struct ft_prediction { int class_index; float probability; } ft_prediction;

typedef struct ft_plan_bytes { /* what a run will take, told before it */
    size_t parameters, gradients, optimizer, activations, workspace, total;
} ft_plan_bytes;

/* =============================================================================================
   [SECTION] 3 Functions
   In the order in which a program calls them.
   ============================================================================================= */
#ifndef FINETUNE_API
#define FINETUNE_API extern
#endif

/* ---- A model ---- */

/* Makes an empty model that owns all that is made with it. NULL only when there is no memory. */
FINETUNE_API ft_model *ft_create(ft_desc desc);
FINETUNE_API void ft_destroy(ft_model *m); /* NULL is fine */

/* The first error since the start (or since ft_clear_error), FT_OK when there was none. After an
   error every call that works on the model does nothing but return the same status. */
FINETUNE_API ft_status ft_error(const ft_model *m);
FINETUNE_API const char *ft_error_text(const ft_model *m); /* "" when there was none */
/* Forgets the error; the weights are those of the last good epoch, so prediction works again. A
   device that failed is given up, and the processor goes on: outside of ft_fit with the weights as
   they were when they were last loaded, read or saved. */
FINETUNE_API void ft_clear_error(ft_model *m);
FINETUNE_API const char *ft_status_name(ft_status status);

/* Lists the machine's OpenCL devices, whatever ft_desc.device is: writes up to `most` of them and
   returns how many there are. 0, with the reason in the log, where there are none. */
FINETUNE_API int ft_devices(ft_model *m, ft_device_info *devices, int most);

/* ---- A network from a file, or by name ---- */

/* Loads a model file, or recognises a published network by the names and shapes of its weights,
   builds it and loads them. .safetensors, and PyTorch's .pt/.pth. */
FINETUNE_API ft_status ft_load(ft_model *m, const char *path, ft_load_options options);

/* Builds "resnet18", "resnet34", "resnet50" (torchvision's names), "resnet20", "resnet32",
   "resnet44", "resnet56" (for CIFAR, option A shortcuts), "mobilenet_v1" or "keras_cnn" with
   random weights. Returns the logits, [batch, classes]. */
FINETUNE_API ft_node ft_network(ft_model *m, const char *name, ft_network_options options);

/* Reads weights into parameters of the same names. What does not match is listed in the error. */
FINETUNE_API ft_status ft_load_weights(ft_model *m, const char *path, ft_weights_options options);

/* Writes weights, graph, class names and preprocessing: all that prediction needs. */
FINETUNE_API ft_status ft_save(ft_model *m, const char *path, ft_save_options options);

/* ---- Tensors of a file, whatever they are for ---- */
FINETUNE_API ft_file *ft_file_open(ft_model *m, const char *path, ft_weights_options options);
FINETUNE_API void ft_file_close(ft_file *file);
FINETUNE_API int ft_file_count(const ft_file *file);
FINETUNE_API ft_tensor_info ft_file_tensor(const ft_file *file, int index);
FINETUNE_API int ft_file_find(const ft_file *file, const char *name); /* index; -1: none */
/* The text of __metadata__'s entry `key`; NULL: none. */
FINETUNE_API const char *ft_file_metadata(const ft_file *file, const char *key);
/* Reads a tensor as float32 (any type) or as it is stored, row-major. */
FINETUNE_API ft_status ft_file_read_f32(ft_file *file, int index, float *to, size_t count);
FINETUNE_API ft_status ft_file_read(ft_file *file, int index, void *to, size_t bytes);

/* ---- Building: each returns the node of its result ----
   `name` is the layer's name; its parameters are called "<name>.weight" and so on. */
FINETUNE_API ft_node ft_input(ft_model *m, const char *name, ft_input_options options);
FINETUNE_API ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options);

/* x [N, C, H, W] -> [N, out_channels, H', W'], H' = (H + padding - dilation*(kernel-1) - 1)/stride
   + 1, rounded down; weight [out_channels, C/groups, kernel, kernel]. */
FINETUNE_API ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv2d_options options);
/* x [N, C, L] -> [N, out_channels, L'], as conv2d does with a height of 1; weight
   [out_channels, C/groups, kernel]. L may be FT_LENGTH where L' is the same: stride 1, and padding
   that adds up to dilation * (kernel - 1). Steps behind a sample's own length count as they are. */
FINETUNE_API ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv1d_options options);
/* x [..., in] -> [..., out]: y = x weight^T + bias. */
FINETUNE_API ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                               ft_linear_options options);
/* x [N, C] or [N, C, H, W]: y = (x - mean) / sqrt(var + eps) * weight + bias per channel; the
   batch's mean and variance in training, the running ones in evaluation or when frozen.
   Ioffe and Szegedy 2015. */
FINETUNE_API ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x,
                                   ft_batch_norm_options options);
/* x [..., D], at least 2 dimensions: y = (x - mean) / sqrt(var + eps) * weight + bias over each row
   of D; "<name>.weight" and ".bias" are [D]. Ba, Kiros and Hinton 2016. */
FINETUNE_API ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x,
                                   ft_layer_norm_options options);
FINETUNE_API ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
FINETUNE_API ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
FINETUNE_API ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x); /* [N,C,1,1] */
FINETUNE_API ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x);
FINETUNE_API ft_node ft_flatten(ft_model *m, const char *name, ft_node x); /* [N, rest] */
/* `size` of one sample, without the batch; one of them may be -1: what is left. */
FINETUNE_API ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank,
                                const int *size);
/* a + b, a * b; a size of 1 (or a missing leading one) in b is repeated. */
FINETUNE_API ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b);
FINETUNE_API ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b);
FINETUNE_API ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x,
                               int axis); /* axis >= 1 */
FINETUNE_API ft_node ft_pad(ft_model *m, const char *name, ft_node x, ft_pad_options options);
FINETUNE_API ft_node ft_slice(ft_model *m, const char *name, ft_node x, ft_slice_options options);
/* y's dimension d is x's dimension axes[d], for all of x's dimensions (`rank`); axes[0] is 0: the
   batch stays the first. PyTorch's permute; with two axes exchanged its transpose. */
FINETUNE_API ft_node ft_permute(ft_model *m, const char *name, ft_node x, int rank,
                                const int *axes);
/* Takes elements along `axis` >= 1 by number: y[n, k, ...] = x[n, index[n, k], ...] for axis 1.
   `index` is I32 and has x's sizes but for that axis, as PyTorch's gather wants it; or it has
   fewer dimensions, and those behind are taken whole, so that [N, K] takes K rows of x [N, T, D]. A
   number outside of x gives NaN. */
FINETUNE_API ft_node ft_gather(ft_model *m, const char *name, ft_node x, ft_node index, int axis);
/* a [N, .., M, K] b [N, .., K, P] -> [N, .., M, P]: a product for each place of the dimensions
   before the last two, which are the same in both; at least 3 dimensions. */
FINETUNE_API ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b,
                               ft_matmul_options options);
/* ids I32 [N] or [N, L] -> [N, features] or [N, L, features]: rows of "<name>.weight" [words,
   features], at first drawn from N(0, 1) as PyTorch does. An id of -1 gives zeros. */
FINETUNE_API ft_node ft_embedding(ft_model *m, const char *name, ft_node ids, int words,
                                  int features, ft_embedding_options options);
/* x [N, L, in] -> [N, L, directions * hidden]: every step's output of the last layer, forward and
   reverse side by side. Parameters as PyTorch's: "<name>.weight_ih_l0" [4 * hidden, in] (gates i,
   f, g, o), "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse" ..., U(-b, b) with
   b = 1/sqrt(hidden). The layers below the last are nodes "<name>_l0" and so on, so that each can
   be frozen. The last state is ft_step_pool's FT_POOL_LAST, or, carried, "<name>.hidden_l0" [N,
   directions * hidden] and "<name>.cell_l0". Hochreiter and Schmidhuber 1997. */
FINETUNE_API ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden,
                             ft_recurrent_options options);
/* Likewise with gates r, z, n (Cho et al. 2014, PyTorch's form of it), and with none: tanh. */
FINETUNE_API ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);
FINETUNE_API ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);
/* x [N, L, C] -> [N, C]: the last, the mean, or the largest of the real steps. lengths I32 [N], or
   {0}: all are. ULMFiT's head takes all three, side by side by ft_concat (Howard and Ruder
   2018). */
FINETUNE_API ft_node ft_step_pool(ft_model *m, const char *name, ft_node x, ft_node lengths,
                                  ft_step_pool_options options);
/* Zero with the probability p, else x / (1 - p); in evaluation, or frozen, x itself. Over a weight
   it is weight drop or, locked, embedding dropout (Merity et al. 2017): give its node as the
   layer's weight. */
FINETUNE_API ft_node ft_dropout(ft_model *m, const char *name, ft_node x,
                                ft_dropout_options options);
/* `kind` is one of "sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "softplus",
   "softsign", "gelu", "silu", "softmax", "log_softmax". */
FINETUNE_API ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                                   ft_activation_options options);
/* Losses: the mean over the batch, shape [1]. Stable at large logits.
   Cross-entropy: logits [N, classes] and labels [N], or [N, L, classes] and [N, L]; labels of -1
   (padding) and of -100 (PyTorch's ignore_index) are left out, and the mean is over the others. */
FINETUNE_API ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                      ft_node labels /* I32 */, ft_loss_options options);
FINETUNE_API ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                           ft_node targets /* F32 [N, classes] */);
FINETUNE_API ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                             ft_node targets /* F32, as logits */);
FINETUNE_API ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target);

/* Which nodes matter: the output that is predicted and saved, and the loss that is trained. A
   network made by name or from a file has both (cross-entropy over the node "labels"). */
FINETUNE_API void ft_set_output(ft_model *m, ft_node logits);
FINETUNE_API void ft_set_loss(ft_model *m, ft_node loss);
FINETUNE_API ft_node ft_output(const ft_model *m);
FINETUNE_API ft_node ft_loss(const ft_model *m);
FINETUNE_API void ft_set_preprocessing(ft_model *m, ft_preprocessing preprocessing);
FINETUNE_API ft_preprocessing ft_get_preprocessing(const ft_model *m);
FINETUNE_API void ft_set_class_names(ft_model *m, int count, const char *const *names);
FINETUNE_API const char *ft_class_name(const ft_model *m, int index); /* NULL: none */
FINETUNE_API int ft_class_count(const ft_model *m);

/* ---- Looking at it ---- */
FINETUNE_API ft_node ft_find(const ft_model *m, const char *name); /* {0}: none of that name */
FINETUNE_API int ft_node_count(const ft_model *m);                 /* ids are 1..count */
FINETUNE_API const char *ft_node_name(const ft_model *m, ft_node node);
FINETUNE_API const char *ft_node_operator(const ft_model *m, ft_node node); /* "conv2d", ... */
FINETUNE_API ft_shape ft_node_shape(const ft_model *m, ft_node node);
/* Above: FT_BATCH and FT_LENGTH stay as they are. */
FINETUNE_API int ft_node_inputs(const ft_model *m, ft_node node, ft_node *inputs, int most);
FINETUNE_API bool ft_node_frozen(const ft_model *m, ft_node node);
FINETUNE_API uint64_t ft_node_multiply_adds(const ft_model *m, ft_node node); /* a sample */
FINETUNE_API ft_time ft_node_time(const ft_model *m, ft_node node); /* with ft_desc.clock */
FINETUNE_API const char *ft_architecture(const ft_model *m); /* "resnet18", or "" */
/* Copies a parameter or buffer, or the last run's value of a node, out or in. `count` numbers. */
FINETUNE_API ft_status ft_get(ft_model *m, ft_node node, float *to, size_t count);
FINETUNE_API ft_status ft_set(ft_model *m, ft_node node, const float *from, size_t count);
FINETUNE_API ft_status ft_get_gradient(ft_model *m, ft_node node, float *to, size_t count);
/* What training or prediction with batches of this size will take. */
FINETUNE_API ft_plan_bytes ft_plan(ft_model *m, int batch_size, bool training);

/* ---- Adjusting it ---- globs on names: * ? [a-z] [!a-z], and several parted by commas */
FINETUNE_API int ft_freeze(ft_model *m, const char *glob);   /* how many nodes matched */
FINETUNE_API int ft_unfreeze(ft_model *m, const char *glob);
FINETUNE_API ft_digest ft_frozen_digest(ft_model *m);
/* Puts a new linear layer of `classes` outputs in the place of the last one, under its name. */
FINETUNE_API ft_status ft_replace_head(ft_model *m, int classes);
/* Turns the activations whose names match into `kind`; returns how many. */
FINETUNE_API int ft_swap_activations(ft_model *m, const char *glob, const char *kind,
                                     ft_activation_options options);
/* Factors on the learning rate, and weight decay, of the parameters that match. */
FINETUNE_API int ft_scale_learning_rate(ft_model *m, const char *glob, float factor);
FINETUNE_API int ft_set_weight_decay(ft_model *m, const char *glob, float weight_decay);
/* Draws the weights anew, from the model's seed. */
FINETUNE_API int ft_initialise(ft_model *m, const char *glob, ft_initialiser initialiser);

/* ---- Text; tokenisers are owned by the model, freed with it or by ft_tokenizer_free ---- */

/* Loads a tokeniser; which kind it is, the content says:
     vocab.txt        WordPiece (Devlin et al. 2018), one piece a line, "[UNK]" among them
     vocab.json       byte-level BPE (Radford et al. 2019), with merges.txt beside it
     tokenizer.json   Hugging Face's, of these two kinds
     a JSON list      of characters: each is its index
     tok512.bin       llama2.c's: int32 longest piece, then float32 score, int32 bytes, the bytes
   NULL with an error. */
FINETUNE_API ft_tokenizer *ft_tokenizer_load(ft_model *m, const char *path,
                                             ft_tokenizer_options options);
/* Makes a vocabulary of FT_WORDS or FT_CHARACTERS from `count` texts, the most frequent first;
   words have "<pad>", "<unk>" and "<eos>" before them. */
FINETUNE_API ft_tokenizer *ft_tokenizer_build(ft_model *m, ft_tokenizer_kind kind,
                                              const char *const *texts, int count,
                                              ft_vocabulary_options options);
FINETUNE_API void ft_tokenizer_free(ft_tokenizer *tokenizer);
/* The ids of a text of so many bytes of UTF-8; they stay until the tokeniser is used again.
   What is not UTF-8 is unknown to FT_WORDS and FT_WORDPIECE, and bytes to the kinds of BPE;
   FT_CHARACTERS without "<unk>" leaves out what is not in the vocabulary. No text is read as a
   special piece. {NULL, 0} with an error. */
FINETUNE_API ft_tokens ft_tokenize(ft_tokenizer *tokenizer, const char *text, size_t bytes,
                                   ft_tokenize_options options);
/* The text of ids, special pieces left out, ends with a 0 and stays until the tokeniser is used
   again; *bytes (or NULL) is how long it is. */
FINETUNE_API const char *ft_detokenize(ft_tokenizer *tokenizer, const int32_t *ids, int count,
                                       size_t *bytes);
FINETUNE_API ft_tokenizer_kind ft_tokenizer_kind_of(const ft_tokenizer *tokenizer);
FINETUNE_API int ft_tokenizer_count(const ft_tokenizer *tokenizer); /* of pieces */
FINETUNE_API const char *ft_tokenizer_piece(const ft_tokenizer *tokenizer, int id); /* NULL: none */
FINETUNE_API int ft_tokenizer_find(const ft_tokenizer *tokenizer, const char *piece); /* or -1 */
/* The tokeniser that the model file carries, so that prediction needs one file. */
FINETUNE_API ft_status ft_set_tokenizer(ft_model *m, ft_tokenizer *tokenizer);
FINETUNE_API ft_tokenizer *ft_get_tokenizer(const ft_model *m); /* NULL: none */

/* ---- Data; owned by the model, freed with it or by ft_data_free ---- */
FINETUNE_API ft_data *ft_data_source(ft_model *m, ft_source source);
/* PATH/CLASS/anything.jpg|png|bmp|ppm|pgm|gif; classes in the order of their names. */
FINETUNE_API ft_data *ft_image_folder(ft_model *m, const char *path,
                                      ft_image_folder_options options);
/* `count` samples in the caller's memory, which must live as long: values are
   [count, the input's shape], labels [count]. */
FINETUNE_API ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                                ft_array_options options);
/* Labelled texts: a table (.tsv, .csv as RFC 4180 has it, .jsonl: an object a line), or a folder
   PATH/CLASS/files, one text each. Classes are in the order of their names. Fills the inputs
   "tokens" I32 [FT_LENGTH], "lengths" I32 and "labels" I32. Batches hold texts of like length. */
FINETUNE_API ft_data *ft_texts(ft_model *m, const char *path, ft_text_options options);
/* A text as parallel streams for a language model; a recurrent network's state is carried from a
   batch to the next. Fills "tokens" and "labels" I32 [FT_LENGTH], and "lengths". The batch size of
   ft_fit and ft_evaluate is the number of streams. */
FINETUNE_API ft_data *ft_text_streams(ft_model *m, const char *path, ft_stream_options options);
FINETUNE_API void ft_data_free(ft_data *data);
FINETUNE_API int ft_data_count(const ft_data *data);
FINETUNE_API int ft_data_classes(const ft_data *data);
FINETUNE_API const char *ft_data_class_name(const ft_data *data, int c);
FINETUNE_API const char *ft_data_name(const ft_data *data, int index);
FINETUNE_API int ft_data_label(const ft_data *data, int index);
FINETUNE_API int ft_data_skipped(const ft_data *data); /* files that could not be decoded */

/* ---- Training ---- */

/* The default recipe: a new head for the data's classes, trained on frozen features; deeper layers
   too where that is not enough by a held-back part of the data. */
FINETUNE_API ft_finetune_result ft_finetune(ft_model *m, ft_data *data,
                                            ft_finetune_options options);
/* Trains what is not frozen. */
FINETUNE_API ft_fit_result ft_fit(ft_model *m, ft_data *data, ft_fit_options options);
FINETUNE_API ft_evaluation ft_evaluate(ft_model *m, ft_data *data, ft_evaluate_options options);

/* The same by hand:
       ft_set_optimizer(m, options);
       for (...) { ft_feed(m, input, x, batch); ft_feed(m, labels, y, batch);
                   loss = ft_forward(m, true); ft_backward(m); ft_update(m, learning_rate); }   */
FINETUNE_API ft_status ft_set_optimizer(ft_model *m, ft_optimizer_options options);
FINETUNE_API ft_status ft_feed(ft_model *m, ft_node input, const void *values, int batch);
/* How many steps FT_LENGTH stands for from now on: set it before ft_feed, ft_run, ft_plan, ft_fit.
   1 at first. A run may be shorter than the longest one so far: it costs accordingly. */
FINETUNE_API ft_status ft_set_length(ft_model *m, int length);
FINETUNE_API int ft_length(const ft_model *m);
FINETUNE_API float ft_forward(ft_model *m, bool training); /* the loss; 0 if there is none */
FINETUNE_API ft_status ft_backward(ft_model *m);           /* adds to the gradients */
FINETUNE_API ft_status ft_update(ft_model *m, float learning_rate); /* and zeroes them */
/* Sets the carried states whose names match to zero: a new sequence begins. Returns how many. */
FINETUNE_API int ft_reset_state(ft_model *m, const char *glob);
/* The factor on the learning rate at a step (from 0) of a schedule of so many steps. */
FINETUNE_API float ft_schedule_factor(ft_schedule schedule, int step, int steps, int step_size,
                                      float gamma, int warmup);

/* ---- Prediction ---- */

/* One picture, as encoded bytes or as a path; the `count` most probable classes, best first.
   Returns how many were written, 0 on error. */
FINETUNE_API int ft_predict_file(ft_model *m, const char *path, ft_prediction *best, int count);
FINETUNE_API int ft_predict_memory(ft_model *m, const void *bytes, size_t count_of_bytes,
                                   ft_prediction *best, int count);
/* `pixels`: rows of 8-bit RGB (3 channels) or grey (1). */
FINETUNE_API int ft_predict_pixels(ft_model *m, const uint8_t *pixels, int width, int height,
                                   int channels, ft_prediction *best, int count);
/* Any input: values [batch, the input's shape], float, or int32_t where the network's first input
   is of token ids -> logits [batch, the output's shape]. An input "lengths" is filled with
   ft_length(m), for every sample is whole; ft_run_lengths tells how many steps of each are real. */
FINETUNE_API ft_status ft_run(ft_model *m, const void *values, int batch, float *logits);
FINETUNE_API ft_status ft_run_lengths(ft_model *m, const void *values, const int *lengths,
                                      int batch, float *logits);

#ifdef __cplusplus
}
#endif
#endif /* FINETUNE_H */

/* ------------------------------------------------------------------------------------------------
   Stop here unless you want to change the library.
   --------------------------------------------------------------------------------------------- */
#if defined(FINETUNE_IMPLEMENTATION) && !defined(FINETUNE__IMPLEMENTED)
#define FINETUNE__IMPLEMENTED

/* =============================================================================================
   [SECTION] 4 Platform, checked sizes, allocator, errors
   Everything that can fail for want of memory or of a file goes through an ft__context, which
   keeps the first error. No other global or static state exists.
   ============================================================================================= */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if (defined(__unix__) || defined(__APPLE__)) && !defined(FINETUNE_NO_POSIX)
#define FINETUNE__POSIX 1
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define FINETUNE__POSIX 0
#ifndef FINETUNE_NO_THREADS
#define FINETUNE_NO_THREADS
#endif
#endif
#ifndef FINETUNE_NO_THREADS
#include <pthread.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FT__PRINTF(text, first) __attribute__((format(printf, text, first)))
#define FT__UNUSED __attribute__((unused))
#define FT__RESTRICT __restrict__ /* C++ has not C99's word */
#else
#define FT__PRINTF(text, first)
#define FT__UNUSED
#define FT__RESTRICT
#endif

#define FT__ALIGNMENT 64 /* bytes: a cache line, and the widest vector */
#define FT__DEVICE_ALIGNMENT 512 /* the most that a part of an OpenCL buffer was seen to need */

typedef struct ft__pool ft__pool;

typedef struct ft__context {
    ft_desc desc;       /* with every default filled in */
    ft_status status;   /* sticky: the first error ... */
    char text[1024];    /* ... and its line */
    size_t bytes;       /* allocated now, by this model */
    size_t bytes_peak;
    size_t arena_used;
    int threads;
    int simd;           /* which micro-kernels: see section 6.2 */
    ft__pool *pool;     /* NULL: everything runs on the calling thread */
    struct ft__device *device; /* NULL: the processor; see section 9 */
    void (*forget)(struct ft__context *c, const void *memory, size_t bytes); /* when released */
} ft__context;
typedef struct ft__device ft__device;

static bool ft__ok(const ft__context *c) { return c->status == FT_OK; }

/* Keeps the first error only: what follows from it would hide the cause. */
static FT__PRINTF(3, 4) ft_status ft__fail(ft__context *c, ft_status status, const char *format,
                                           ...)
{
    va_list arguments;
    if (c->status != FT_OK) return c->status;
    c->status = status;
    va_start(arguments, format);
    vsnprintf(c->text, sizeof c->text, format, arguments);
    va_end(arguments);
    return status;
}

static FT__PRINTF(2, 3) void ft__log(const ft__context *c, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    if (!c->desc.log) return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    c->desc.log(c->desc.log_user, line);
}

static bool ft__multiply(size_t a, size_t b, size_t *product)
{
    if (b != 0 && a > SIZE_MAX / b) return false;
    *product = a * b;
    return true;
}

static void *ft__default_allocate(void *user, size_t bytes, size_t alignment)
{
    /* malloc aligns less than asked: the pointer that it gave is kept just below ours. */
    unsigned char *raw, *aligned;
    (void)user;
    if (bytes > SIZE_MAX - alignment - sizeof(void *)) return NULL;
    raw = (unsigned char *)calloc(1, bytes + alignment + sizeof(void *));
    if (!raw) return NULL;
    aligned = raw + sizeof(void *);
    aligned += (alignment - (uintptr_t)aligned % alignment) % alignment;
    memcpy(aligned - sizeof(void *), &raw, sizeof raw);
    return aligned;
}

static void ft__default_release(void *user, void *memory, size_t bytes)
{
    void *raw;
    (void)user;
    (void)bytes;
    memcpy(&raw, (unsigned char *)memory - sizeof(void *), sizeof raw);
    free(raw);
}

/* The arena only grows, but gives the latest block back: enough for the order in which models are
   built, and it needs no list. */
static void *ft__arena_allocate(ft__context *c, size_t bytes)
{
    unsigned char *base = (unsigned char *)c->desc.arena, *start;
    size_t misaligned = (uintptr_t)(base + c->arena_used) % FT__ALIGNMENT;
    size_t skip = misaligned ? FT__ALIGNMENT - misaligned : 0;
    if (skip > c->desc.arena_bytes - c->arena_used) return NULL;
    if (bytes > c->desc.arena_bytes - c->arena_used - skip) return NULL;
    start = base + c->arena_used + skip;
    c->arena_used += skip + bytes;
    return start;
}

/* Each block starts with its size, so that release needs only the pointer. */
static void *ft__allocate(ft__context *c, size_t count, size_t size)
{
    size_t bytes;
    unsigned char *block = NULL;
    if (!ft__ok(c)) return NULL;
    if (!ft__multiply(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        ft__fail(c, FT_MEMORY, "%zu elements of %zu bytes are more than memory can hold", count,
                 size);
        return NULL;
    }
    bytes += FT__ALIGNMENT;
    if (c->desc.memory_budget && bytes > c->desc.memory_budget - c->bytes) {
        ft__fail(c, FT_MEMORY, "the memory budget of %zu bytes is used up: %zu are taken, %zu more"
                 " are wanted", c->desc.memory_budget, c->bytes, bytes);
        return NULL;
    }
    if (c->desc.arena) block = (unsigned char *)ft__arena_allocate(c, bytes);
    else block = (unsigned char *)c->desc.allocator.allocate(c->desc.allocator.user, bytes,
                                                             FT__ALIGNMENT);
    if (!block) {
        ft__fail(c, FT_MEMORY, "no memory for %zu bytes (%zu are in use)", bytes, c->bytes);
        return NULL;
    }
    /* Pages that calloc takes fresh from the system are zero, and not there until they are used. */
    if (c->desc.arena || c->desc.allocator.allocate != ft__default_allocate)
        memset(block, 0, bytes);
    memcpy(block, &bytes, sizeof bytes);
    c->bytes += bytes;
    if (c->bytes > c->bytes_peak) c->bytes_peak = c->bytes;
    return block + FT__ALIGNMENT;
}

static void ft__release(ft__context *c, void *memory)
{
    unsigned char *block = (unsigned char *)memory;
    size_t bytes;
    if (!memory) return;
    block -= FT__ALIGNMENT;
    memcpy(&bytes, block, sizeof bytes);
    if (c->forget) c->forget(c, block, bytes);
    c->bytes -= bytes;
    if (!c->desc.arena) c->desc.allocator.release(c->desc.allocator.user, block, bytes);
    else if (block + bytes == (unsigned char *)c->desc.arena + c->arena_used)
        c->arena_used -= bytes;
}

/* Moves an array to a larger block; NULL (and the old block untouched) when there is no memory. */
static void *ft__grow(ft__context *c, void *old, size_t old_count, size_t count, size_t size)
{
    void *grown = ft__allocate(c, count, size);
    if (!grown) return NULL;
    if (old) memcpy(grown, old, old_count * size);
    ft__release(c, old);
    return grown;
}

static const char *const ft__status_names[] = {
#define FT__STATUS_NAME(name, text) #name,
    FINETUNE_STATUS_LIST(FT__STATUS_NAME)
};

static const char *const ft__type_names[] = {
#define FT__TYPE_NAME(name, bytes) #name,
    FINETUNE_TYPE_LIST(FT__TYPE_NAME)
};

static const int ft__type_bytes[] = {
#define FT__TYPE_BYTES(name, bytes) bytes,
    FINETUNE_TYPE_LIST(FT__TYPE_BYTES)
};

/* The number of elements; 0 with an error in the context when it does not fit into memory. */
static size_t ft__shape_count(const ft_shape *shape)
{
    size_t count = 1;
    int d;
    for (d = 0; d < shape->rank; ++d) {
        if (shape->size[d] < 0) return 0;
        if (!ft__multiply(count, (size_t)shape->size[d], &count)) return 0;
    }
    return count > SIZE_MAX / 16 ? 0 : count;
}

/* "[N, 3, 224, 224]" for messages; N is the batch, L the length. */
static const char *ft__shape_text(const ft_shape *shape, char text[80])
{
    size_t at = 1;
    int d;
    text[0] = '[';
    for (d = 0; d < shape->rank; ++d) {
        if (d && at < 70) { text[at++] = ','; text[at++] = ' '; }
        if (shape->size[d] == FT_BATCH) text[at++] = 'N';
        else if (shape->size[d] == FT_LENGTH) text[at++] = 'L';
        else at += (size_t)snprintf(text + at, 80 - at - 1, "%d", shape->size[d]);
        if (at > 72) break;
    }
    text[at] = ']';
    text[at + 1] = 0;
    return text;
}

/* =============================================================================================
   [SECTION] 5.1 Random numbers
   Counter-based: a number is a function of (seed, what it is for, index), so that it depends
   neither on threads nor on what was drawn before, and a resumed run draws the same.
   The mixing is SplitMix64's finaliser (Steele, Lea, Flood 2014).
   ============================================================================================= */
enum { /* what a key is for */
    FT__USE_INITIALISE = 1, FT__USE_DROPOUT, FT__USE_ORDER, FT__USE_SPLIT, FT__USE_PER_CLASS,
    FT__USE_AUGMENT
};

static uint64_t ft__mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A key for one use of random numbers, from up to four numbers that name it. */
static uint64_t ft__key(uint64_t seed, uint64_t a, uint64_t b, uint64_t use)
{
    uint64_t key = ft__mix(seed + 0x9E3779B97F4A7C15u);
    key = ft__mix(key ^ (a + 0xD1B54A32D192ED03u));
    key = ft__mix(key ^ (b + 0x8CB92BA72F3D8DD7u));
    return ft__mix(key ^ (use + 0xAEF17502108EF2D9u));
}

static uint64_t ft__random(uint64_t key, uint64_t index)
{
    return ft__mix(key + (index + 1) * 0x9E3779B97F4A7C15u);
}

static float ft__uniform(uint64_t key, uint64_t index) /* [0, 1), 24 bits */
{
    return (float)(ft__random(key, index) >> 40) * (1.0f / 16777216.0f);
}

static uint64_t ft__hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    /* Eight bytes a round: digests of whole networks are taken often. */
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t word = 0;
    hash ^= count * 0x9E3779B97F4A7C15u;
    for (; count >= 8; count -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = ft__mix(hash ^ word) + 0x9E3779B97F4A7C15u;
    }
    word = 0;
    memcpy(&word, at, count);
    return ft__mix(hash ^ word);
}

/* A random order of 0..count-1 (Fisher and Yates). */
static void ft__shuffle(int *order, int count, uint64_t key)
{
    int i;
    for (i = 0; i < count; ++i) order[i] = i;
    for (i = count - 1; i > 0; --i) {
        int j = (int)(ft__random(key, (uint64_t)i) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* =============================================================================================
   [SECTION] 5.2 Strings
   ============================================================================================= */
static char *ft__copy_text(ft__context *c, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = (char *)ft__allocate(c, bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

/* [a-z] or [!a-z]; returns the pattern behind it, or NULL when it does not match. */
static const char *ft__glob_set(const char *pattern, char letter)
{
    bool inverted = *pattern == '!', found = false;
    if (inverted) ++pattern;
    while (*pattern && *pattern != ']') {
        if (pattern[1] == '-' && pattern[2] && pattern[2] != ']') {
            if (letter >= pattern[0] && letter <= pattern[2]) found = true;
            pattern += 3;
        } else {
            if (*pattern == letter) found = true;
            ++pattern;
        }
    }
    if (*pattern != ']' || found == inverted) return NULL;
    return pattern + 1;
}

/* One pattern of `count` letters against a whole text. Linear apart from one remembered star. */
static bool ft__glob_one(const char *pattern, const char *end, const char *text)
{
    const char *star = NULL, *star_text = NULL;
    while (*text || pattern < end) {
        const char *next = NULL;
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            star_text = text;
            continue;
        }
        if (pattern < end && *text) {
            if (*pattern == '[') next = ft__glob_set(pattern + 1, *text);
            else if (*pattern == '?' || *pattern == *text) next = pattern + 1;
        }
        if (next && next <= end) {
            pattern = next;
            ++text;
        } else if (star && *star_text) {
            pattern = star;
            text = ++star_text;
        } else return false;
    }
    return true;
}

/* Several patterns may be parted by commas. */
static bool ft__glob(const char *patterns, const char *text)
{
    while (*patterns) {
        const char *end = patterns;
        while (*end && *end != ',') ++end;
        if (ft__glob_one(patterns, end, text)) return true;
        patterns = *end ? end + 1 : end;
    }
    return false;
}

/* A text that grows: check ft__ok(context) once at the end. `letters` ends with a 0. */
typedef struct ft__text {
    ft__context *context;
    char *letters;
    size_t count, capacity;
} ft__text;

static void ft__text_add_bytes(ft__text *text, const char *bytes, size_t count)
{
    if (text->capacity - text->count < count + 1) {
        size_t capacity = 2 * text->capacity + count + 64;
        char *grown = (char *)ft__grow(text->context, text->letters, text->count, capacity, 1);
        if (!grown) return;
        text->letters = grown;
        text->capacity = capacity;
    }
    memcpy(text->letters + text->count, bytes, count);
    text->count += count;
    text->letters[text->count] = 0;
}

static FT__PRINTF(2, 3) void ft__text_add(ft__text *text, const char *format, ...)
{
    char piece[512];
    va_list arguments;
    int count;
    va_start(arguments, format);
    count = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (count < 0) return;
    if ((size_t)count >= sizeof piece) count = (int)sizeof piece - 1;
    ft__text_add_bytes(text, piece, (size_t)count);
}

static bool ft__ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* =============================================================================================
   [SECTION] 5.3 Files
   The default operations: POSIX calls where they exist (declared here where strict C99 hides them),
   stdio elsewhere.
   ============================================================================================= */
#if FINETUNE__POSIX
#ifdef __cplusplus
extern "C" {
#endif
int fsync(int descriptor);
#ifdef __cplusplus
}
#endif

/* A descriptor is carried in the pointer, plus one so that it is never NULL. */
static int ft__descriptor(void *file) { return (int)(intptr_t)file - 1; }

static void *ft__posix_open(void *user, const char *path, bool write)
{
    int descriptor = write ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : open(path, O_RDONLY);
    (void)user;
    return descriptor < 0 ? NULL : (void *)(intptr_t)(descriptor + 1);
}

static int64_t ft__posix_size(void *user, void *file)
{
    struct stat status;
    (void)user;
    if (fstat(ft__descriptor(file), &status) != 0) return -1;
    if (!S_ISREG(status.st_mode)) return -1;
    return (int64_t)status.st_size;
}

static size_t ft__posix_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    size_t done = 0;
    (void)user;
    if (lseek(ft__descriptor(file), (off_t)offset, SEEK_SET) < 0) return 0;
    while (done < bytes) {
        ssize_t got = read(ft__descriptor(file), (char *)to + done, bytes - done);
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

static size_t ft__posix_write(void *user, void *file, const void *from, size_t bytes)
{
    size_t done = 0;
    (void)user;
    while (done < bytes) {
        ssize_t put = write(ft__descriptor(file), (const char *)from + done, bytes - done);
        if (put <= 0) break;
        done += (size_t)put;
    }
    return done;
}

static bool ft__posix_close(void *user, void *file)
{
    bool written = (fcntl(ft__descriptor(file), F_GETFL) & O_ACCMODE) != O_RDONLY;
    bool synced = !written || fsync(ft__descriptor(file)) == 0;
    (void)user;
    return close(ft__descriptor(file)) == 0 && synced;
}

static const void *ft__posix_map(void *user, void *file, size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, ft__descriptor(file), 0);
    (void)user;
    return memory == MAP_FAILED ? NULL : memory;
}

static void ft__posix_unmap(void *user, const void *memory, size_t bytes)
{
    (void)user;
    munmap((void *)(uintptr_t)memory, bytes);
}

static bool ft__posix_list(void *user, const char *path,
                           void (*each)(void *context, const char *name, bool is_folder),
                           void *context)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    (void)user;
    if (!folder) return false;
    while ((entry = readdir(folder)) != NULL) {
        char inner[4096];
        struct stat status;
        int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (length < 0 || (size_t)length >= sizeof inner || stat(inner, &status) != 0) continue;
        each(context, entry->d_name, S_ISDIR(status.st_mode) != 0);
    }
    closedir(folder);
    return true;
}
#else
static void *ft__stdio_open(void *user, const char *path, bool write)
{
    (void)user;
    return fopen(path, write ? "wb" : "rb");
}

static int64_t ft__stdio_size(void *user, void *file)
{
    (void)user;
    if (fseek((FILE *)file, 0, SEEK_END) != 0) return -1;
    return (int64_t)ftell((FILE *)file);
}

static size_t ft__stdio_read(void *user, void *file, uint64_t offset, void *to, size_t bytes)
{
    (void)user;
    if (offset > LONG_MAX || fseek((FILE *)file, (long)offset, SEEK_SET) != 0) return 0;
    return fread(to, 1, bytes, (FILE *)file);
}

static size_t ft__stdio_write(void *user, void *file, const void *from, size_t bytes)
{
    (void)user;
    return fwrite(from, 1, bytes, (FILE *)file);
}

static bool ft__stdio_close(void *user, void *file)
{
    (void)user;
    return fclose((FILE *)file) == 0;
}
#endif

static bool ft__default_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) == 0;
}

static bool ft__default_remove(void *user, const char *path)
{
    (void)user;
    return remove(path) == 0;
}

static ft_files ft__default_files(void)
{
    ft_files files;
    memset(&files, 0, sizeof files);
#if FINETUNE__POSIX
    files.open = ft__posix_open;
    files.size = ft__posix_size;
    files.read = ft__posix_read;
    files.write = ft__posix_write;
    files.close = ft__posix_close;
    files.map = ft__posix_map;
    files.unmap = ft__posix_unmap;
    files.list = ft__posix_list;
#else
    files.open = ft__stdio_open;
    files.size = ft__stdio_size;
    files.read = ft__stdio_read;
    files.write = ft__stdio_write;
    files.close = ft__stdio_close;
#endif
    files.rename = ft__default_rename;
    files.remove = ft__default_remove;
    return files;
}

/* A whole file in memory (released by the caller); NULL with an error. */
static unsigned char *ft__read_file(ft__context *c, const char *path, size_t *bytes)
{
    ft_files *files = &c->desc.files;
    unsigned char *content = NULL;
    int64_t size;
    void *file;
    if (!ft__ok(c)) return NULL;
    file = files->open(files->user, path, false);
    if (!file) {
        ft__fail(c, FT_IO, "%s: cannot be opened", path);
        return NULL;
    }
    size = files->size(files->user, file);
    if (size < 0 || (uint64_t)size > SIZE_MAX / 2) ft__fail(c, FT_IO, "%s: not a file", path);
    else content = (unsigned char *)ft__allocate(c, (size_t)size + 1, 1);
    if (content && files->read(files->user, file, 0, content, (size_t)size) != (size_t)size) {
        ft__fail(c, FT_IO, "%s: reading its %lld bytes failed", path, (long long)size);
        ft__release(c, content);
        content = NULL;
    }
    files->close(files->user, file);
    *bytes = (size_t)size;
    return content;
}

/* =============================================================================================
   [SECTION] 5.4 JSON
   A text becomes an array of values in the order in which they stand; a value knows how many lie
   inside it and where the next one begins. No recursion: a hostile file cannot exhaust the stack.
   Numbers are read and written here, not by libc, whose decimal point depends on the locale.
   ============================================================================================= */
enum { FT__JSON_DEPTH = 64 };

typedef struct ft__json_value {
    char kind;          /* 'o' object, 'a' array, 's' string, 'n' number, 't', 'f', '0' null */
    bool integer;
    int next;           /* index of the value behind this one and all inside it */
    int count;          /* of members or elements */
    const char *key;    /* inside an object */
    const char *text;   /* of a string */
    double number;
    int64_t whole;      /* of a number without fraction and exponent */
} ft__json_value;

typedef struct ft__json { ft__json_value *values; int count, capacity; char *letters; } ft__json;

typedef struct ft__json_reader {
    ft__context *context;
    ft__json *json;
    const char *at, *end;
    char *to;           /* where the next decoded string goes */
} ft__json_reader;

static void ft__json_space(ft__json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at += 1;
}

static bool ft__json_hex(ft__json_reader *r, uint32_t *code)
{
    int i;
    *code = 0;
    if (r->end - r->at < 4) return false;
    for (i = 0; i < 4; ++i) {
        char l = *r->at++;
        uint32_t digit = l >= '0' && l <= '9' ? (uint32_t)(l - '0')
            : l >= 'a' && l <= 'f' ? (uint32_t)(l - 'a' + 10)
            : l >= 'A' && l <= 'F' ? (uint32_t)(l - 'A' + 10) : 16;
        if (digit > 15) return false;
        *code = *code * 16 + digit;
    }
    return true;
}

static void ft__json_utf8(ft__json_reader *r, uint32_t code)
{
    if (code < 0x80) *r->to++ = (char)code;
    else if (code < 0x800) {
        *r->to++ = (char)(0xc0 | code >> 6);
        *r->to++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *r->to++ = (char)(0xe0 | code >> 12);
        *r->to++ = (char)(0x80 | (code >> 6 & 63));
        *r->to++ = (char)(0x80 | (code & 63));
    } else {
        *r->to++ = (char)(0xf0 | code >> 18);
        *r->to++ = (char)(0x80 | (code >> 12 & 63));
        *r->to++ = (char)(0x80 | (code >> 6 & 63));
        *r->to++ = (char)(0x80 | (code & 63));
    }
}

/* Behind a backslash. A decoded string is never longer than it was. */
static bool ft__json_escape(ft__json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    const char *found;
    char l;
    if (r->at >= r->end) return false;
    l = *r->at++;
    if (l != 'u') {
        found = l ? strchr(from, l) : NULL;
        if (found) *r->to++ = to[found - from];
        return found != NULL;
    }
    if (!ft__json_hex(r, &code)) return false;
    if (code >= 0xd800 && code < 0xdc00) { /* the first half of a pair */
        if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u') return false;
        r->at += 2;
        if (!ft__json_hex(r, &low) || low < 0xdc00 || low > 0xdfff) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) return false;
    if (code == 0) return false; /* would end the string early */
    ft__json_utf8(r, code);
    return true;
}

static const char *ft__json_read_string(ft__json_reader *r)
{
    const char *start = r->to;
    r->at += 1; /* the quote */
    while (r->at < r->end && *r->at != '"') {
        if ((unsigned char)*r->at < 0x20) return NULL;
        if (*r->at != '\\') *r->to++ = *r->at++;
        else {
            r->at += 1;
            if (!ft__json_escape(r)) return NULL;
        }
    }
    if (r->at >= r->end) return NULL;
    r->at += 1;
    *r->to++ = 0;
    return start;
}

static double ft__power_of_ten(int exponent)
{
    double power = 1, base = 10;
    int n = exponent < 0 ? -exponent : exponent;
    for (; n; n >>= 1, base *= base)
        if (n & 1) power *= base;
    return power;
}

/* Digits as an integer, then one exact power of ten: right to the last bit of a float32, which is
   all that is read back. */
static bool ft__json_read_number(ft__json_reader *r, ft__json_value *v)
{
    bool negative = false, overflow = false;
    double mantissa = 0;
    int64_t whole = 0;
    int exponent = 0, digits = 0, written = 0;
    v->kind = 'n';
    v->integer = true;
    if (*r->at == '-') negative = (r->at += 1, true);
    for (; r->at < r->end && ((*r->at >= '0' && *r->at <= '9') || (*r->at == '.' && v->integer));
         ++r->at) {
        if (*r->at == '.') {
            v->integer = false;
            continue;
        }
        if (digits < 17) mantissa = mantissa * 10 + (*r->at - '0');
        else exponent += 1;
        if (!v->integer) exponent -= 1;
        if (mantissa > 0) digits += 1;
        if (whole > (INT64_MAX - 9) / 10) overflow = true;
        else whole = whole * 10 + (*r->at - '0');
        written += 1;
    }
    if (written == 0) return false;
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        int sign = 1, power = 0;
        r->at += 1;
        if (r->at < r->end && (*r->at == '-' || *r->at == '+')) sign = *r->at++ == '-' ? -1 : 1;
        if (r->at >= r->end || *r->at < '0' || *r->at > '9') return false;
        for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; ++r->at)
            if (power < 1000) power = power * 10 + (*r->at - '0');
        exponent += sign * power;
        v->integer = false;
    }
    if (exponent > 320) exponent = 320;
    if (exponent < -320) mantissa = exponent < -350 ? 0 : mantissa;
    v->number = exponent < 0 ? mantissa / ft__power_of_ten(exponent)
                             : mantissa * ft__power_of_ten(exponent);
    if (negative) v->number = -v->number;
    v->whole = negative ? -whole : whole;
    if (overflow) v->integer = false;
    return true;
}

static ft__json_value *ft__json_add(ft__json_reader *r)
{
    ft__json *j = r->json;
    if (j->count == j->capacity) {
        int capacity = j->capacity ? 2 * j->capacity : 64;
        ft__json_value *grown;
        if (capacity < 0) return NULL;
        grown = (ft__json_value *)ft__grow(r->context, j->values, (size_t)j->count,
                                           (size_t)capacity, sizeof *grown);
        if (!grown) return NULL;
        j->values = grown;
        j->capacity = capacity;
    }
    return &j->values[j->count++];
}

static bool ft__json_word(ft__json_reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return false;
    r->at += length;
    return true;
}

/* A value without what is inside it. */
static bool ft__json_scalar(ft__json_reader *r, ft__json_value *v)
{
    char l = *r->at;
    v->kind = l == '{' ? 'o' : l == '[' ? 'a' : l == '"' ? 's' : l == 'n' ? '0' : l;
    if (l == '{' || l == '[') return r->at += 1, true;
    if (l == '"') return (v->text = ft__json_read_string(r)) != NULL;
    if (l == 't') return ft__json_word(r, "true");
    if (l == 'f') return ft__json_word(r, "false");
    if (l == 'n') return ft__json_word(r, "null");
    return ft__json_read_number(r, v);
}

/* One member or element of the open value `inside` (-1: the text itself); opens it if it can hold
   more. Returns its index, or -1. */
static int ft__json_read_one(ft__json_reader *r, int inside)
{
    const char *key = NULL;
    ft__json_value *v;
    int index;
    if (inside >= 0 && r->json->values[inside].kind == 'o') {
        if (r->at >= r->end || *r->at != '"' || !(key = ft__json_read_string(r))) return -1;
        ft__json_space(r);
        if (r->at >= r->end || *r->at++ != ':') return -1;
        ft__json_space(r);
    }
    if (r->at >= r->end || !(v = ft__json_add(r))) return -1;
    index = r->json->count - 1;
    v->key = key;
    v->next = index + 1;
    if (!ft__json_scalar(r, v)) return -1;
    if (inside >= 0) r->json->values[inside].count += 1;
    return index;
}

/* Reads everything; on a fault r->at is where it was found. */
static bool ft__json_read_all(ft__json_reader *r)
{
    int open[FT__JSON_DEPTH], depth = 0;
    bool first = true; /* nothing was read yet in the innermost open value */
    for (;;) {
        ft__json_value *top = depth ? &r->json->values[open[depth - 1]] : NULL;
        int index;
        ft__json_space(r);
        if (top && r->at < r->end && *r->at == (top->kind == 'o' ? '}' : ']')
            && (first || top->count > 0)) {
            top->next = r->json->count;
            r->at += 1;
            depth -= 1;
            first = false;
        } else {
            if (top && !first) {
                if (r->at >= r->end || *r->at++ != ',') return false;
                ft__json_space(r);
            }
            index = ft__json_read_one(r, depth ? open[depth - 1] : -1);
            if (index < 0) return false;
            first = r->json->values[index].kind == 'o' || r->json->values[index].kind == 'a';
            if (first && depth == FT__JSON_DEPTH) return false;
            if (first) open[depth++] = index;
        }
        if (depth == 0) {
            ft__json_space(r);
            return r->at == r->end;
        }
    }
}

static void ft__json_free(ft__context *c, ft__json *json)
{
    if (!json) return;
    ft__release(c, json->letters);
    ft__release(c, json->values);
    ft__release(c, json);
}

/* NULL when the text is not JSON (no error is set, `*fault` is the offset) or no memory is left. */
static ft__json *ft__json_parse_at(ft__context *c, const char *text, size_t count, size_t *fault)
{
    ft__json_reader r;
    ft__json *json = (ft__json *)ft__allocate(c, 1, sizeof *json);
    memset(&r, 0, sizeof r);
    *fault = 0;
    if (!json) return NULL;
    /* Each string loses its quotes, so the decoded ones, with their zeros, fit into as much. */
    json->letters = (char *)ft__allocate(c, count + 1, 1);
    r.context = c;
    r.json = json;
    r.at = text;
    r.end = text + count;
    r.to = json->letters;
    if (json->letters && ft__json_read_all(&r)) return json;
    *fault = (size_t)(r.at - text);
    ft__json_free(c, json);
    return NULL;
}

static ft__json *ft__json_parse(ft__context *c, const char *text, size_t count)
{
    size_t fault;
    return ft__json_parse_at(c, text, count, &fault);
}

/* ---- Looking in; -1 as a value is "not there" and is accepted everywhere ---- */

static const ft__json_value *ft__json_at(const ft__json *j, int value, char kind)
{
    return value >= 0 && value < j->count && j->values[value].kind == kind ? &j->values[value]
                                                                           : NULL;
}

static int ft__json_count(const ft__json *j, int value)
{
    return value >= 0 && value < j->count ? j->values[value].count : 0;
}

static int ft__json_member(const ft__json *j, int object, const char *key)
{
    const ft__json_value *o = ft__json_at(j, object, 'o');
    int i;
    for (i = object + 1; o && i < o->next; i = j->values[i].next)
        if (strcmp(j->values[i].key, key) == 0) return i;
    return -1;
}

static int ft__json_element(const ft__json *j, int array, int index)
{
    const ft__json_value *a = ft__json_at(j, array, 'a');
    int i;
    for (i = array + 1; a && i < a->next; i = j->values[i].next)
        if (index-- == 0) return i;
    return -1;
}

static const char *ft__json_string(const ft__json *j, int value)
{
    const ft__json_value *s = ft__json_at(j, value, 's');
    return s ? s->text : NULL;
}

static bool ft__json_double(const ft__json *j, int value, double *to)
{
    const ft__json_value *n = ft__json_at(j, value, 'n');
    if (n) *to = n->number;
    return n != NULL;
}

static bool ft__json_int(const ft__json *j, int value, int64_t *to)
{
    const ft__json_value *n = ft__json_at(j, value, 'n');
    if (!n || !n->integer) return false;
    *to = n->whole;
    return true;
}

static bool ft__json_true(const ft__json *j, int value)
{
    return ft__json_at(j, value, 't') != NULL;
}

/* ---- Writing ---- */

static void ft__json_add_text(ft__text *to, const char *text)
{
    const char *at;
    ft__text_add_bytes(to, "\"", 1);
    for (at = text; *at; ++at) {
        if (*at == '"' || *at == '\\') ft__text_add(to, "\\%c", *at);
        else if ((unsigned char)*at < 0x20) ft__text_add(to, "\\u%04x", (unsigned)*at);
        else ft__text_add_bytes(to, at, 1);
    }
    ft__text_add_bytes(to, "\"", 1);
}

/* Nine digits tell every float32 from its neighbours; what is not finite is written as null. */
static void ft__json_add_float(ft__text *to, float value)
{
    char digits[32], *comma;
    if (!(value - value == 0)) {
        ft__text_add(to, "null");
        return;
    }
    snprintf(digits, sizeof digits, "%.9g", (double)value);
    comma = strchr(digits, ',');
    if (comma) *comma = '.'; /* in some locales */
    ft__text_add(to, "%s", digits);
}

/* =============================================================================================
   [SECTION] 5.5 Threads
   ft__parallel runs body(context, 0..count-1), each index once, in any order. What an index
   computes never depends on which thread runs it or on how many there are, and no two indices add
   to the same number: so the bits are the same for any number of threads.

   Threads take indices from a ticket: the number of the job above, the next index below. An index
   is taken by moving the ticket on; that fails when somebody else was faster, or the job is over.
   A thread without work looks for some a short while, for the next operator comes at once, and
   then sleeps. Invariant: body, context and count change only while no index of theirs is open.
   ============================================================================================= */
typedef void (*ft__body)(void *context, int index);

#ifndef FINETUNE_NO_THREADS
struct ft__pool {
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t threads[64];
    int thread_count;
    ft__body body;
    void *context;
    uint64_t ticket;    /* job << 32 | next index */
    int count;          /* indices of the job */
    int finished;       /* indices that were run */
    int sleeping;       /* threads that wait for work */
    bool waiting;       /* the caller sleeps until all are finished */
    bool quit;
};

/* Loads, stores and additions that other threads see in order. */
#define FT__LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define FT__STORE(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define FT__ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)
#define FT__LOOKS 2000 /* about 20 microseconds */

/* Takes and runs one index; false: none is left. */
static bool ft__pool_take(ft__pool *pool)
{
    uint64_t ticket = FT__LOAD(pool->ticket);
    ft__body body = FT__LOAD(pool->body);
    void *context = FT__LOAD(pool->context);
    int count = FT__LOAD(pool->count);
    if ((int)(ticket & 0xffffffffu) >= count) return false;
    if (!__atomic_compare_exchange_n(&pool->ticket, &ticket, ticket + 1, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) return true;
    body(context, (int)(ticket & 0xffffffffu));
    if (FT__ADD(pool->finished, 1) == count && FT__LOAD(pool->waiting)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
    return true;
}

static bool ft__pool_has_work(ft__pool *pool)
{
    return (int)(FT__LOAD(pool->ticket) & 0xffffffffu) < FT__LOAD(pool->count);
}

static void ft__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void *ft__pool_thread(void *argument)
{
    ft__pool *pool = (ft__pool *)argument;
    while (!FT__LOAD(pool->quit)) {
        int looks = 0;
        while (ft__pool_take(pool)) looks = 0;
        while (looks++ < FT__LOOKS && !ft__pool_has_work(pool)) ft__pause();
        if (ft__pool_has_work(pool)) continue;
        pthread_mutex_lock(&pool->mutex);
        FT__ADD(pool->sleeping, 1);
        while (!ft__pool_has_work(pool) && !FT__LOAD(pool->quit))
            pthread_cond_wait(&pool->work, &pool->mutex);
        FT__ADD(pool->sleeping, -1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

/* The caller's part: opens the job, helps, and waits for the last index. */
static void ft__pool_run(ft__pool *pool, int count, ft__body body, void *context)
{
    int looks = 0;
    uint64_t job = (FT__LOAD(pool->ticket) >> 32) + 1;
    FT__STORE(pool->count, 0); /* no index is open while the job changes */
    FT__STORE(pool->body, body);
    FT__STORE(pool->context, context);
    FT__STORE(pool->finished, 0);
    FT__STORE(pool->ticket, job << 32);
    FT__STORE(pool->count, count);
    if (FT__LOAD(pool->sleeping) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->mutex);
    }
    while (ft__pool_take(pool)) {}
    while (looks++ < FT__LOOKS && FT__LOAD(pool->finished) < count) ft__pause();
    if (FT__LOAD(pool->finished) == count) return;
    pthread_mutex_lock(&pool->mutex);
    FT__STORE(pool->waiting, true);
    while (FT__LOAD(pool->finished) < count) pthread_cond_wait(&pool->done, &pool->mutex);
    FT__STORE(pool->waiting, false);
    pthread_mutex_unlock(&pool->mutex);
}

static void ft__pool_create(ft__context *c)
{
    ft__pool *pool;
    int i;
    if (c->threads < 2 || c->desc.parallel_for) return;
    pool = (ft__pool *)ft__allocate(c, 1, sizeof *pool);
    if (!pool) return;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (i = 0; i < c->threads - 1; ++i) { /* the calling thread is one of them */
        if (pthread_create(&pool->threads[i], NULL, ft__pool_thread, pool) != 0) break;
        pool->thread_count += 1;
    }
    c->pool = pool;
}

static void ft__pool_destroy(ft__context *c)
{
    ft__pool *pool = c->pool;
    int i;
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    FT__STORE(pool->quit, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (i = 0; i < pool->thread_count; ++i) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->mutex);
    ft__release(c, pool);
    c->pool = NULL;
}

static int ft__processors(void)
{
#if FINETUNE__POSIX && defined(_SC_NPROCESSORS_ONLN)
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > 64 ? 64 : (int)count;
#else
    return 1;
#endif
}
#else
static void ft__pool_create(ft__context *c) { (void)c; }
static void ft__pool_destroy(ft__context *c) { (void)c; }
static int ft__processors(void) { return 1; }
#endif

static void ft__parallel(ft__context *c, int count, ft__body body, void *context)
{
    int i;
    if (count > 1 && c->desc.parallel_for) {
        c->desc.parallel_for(c->desc.parallel_user, body, context, count);
        return;
    }
#ifndef FINETUNE_NO_THREADS
    if (count > 1 && c->pool) {
        ft__pool_run(c->pool, count, body, context);
        return;
    }
#endif
    for (i = 0; i < count; ++i) body(context, i);
}

/* For slots, as many as there are threads, that share out pieces of work: the piece after `last`
   (SIZE_MAX: the first), whichever nobody has taken; `next` starts at 0. So a thread that is
   interrupted takes fewer. Compilers without atomics let slot i take i, i + threads, ... */
static size_t ft__next_piece(size_t *next, size_t last, int slot, int threads)
{
#if defined(__GNUC__)
    (void)last;
    (void)slot;
    (void)threads;
    return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
#else
    (void)next;
    return last == SIZE_MAX ? (size_t)slot : last + (size_t)threads;
#endif
}

#define FT__PIECES(i, next, slot, threads, end)                                                   \
    for (i = ft__next_piece(next, SIZE_MAX, slot, threads); i < (end);                            \
         i = ft__next_piece(next, i, slot, threads))

/* =============================================================================================
   [SECTION] 5.6 Sorting
   Heap sort of indices (Williams 1964): n log n whatever the order was, without memory of its own.
   ============================================================================================= */
typedef bool (*ft__less)(const void *context, int a, int b);

static void ft__sift_down(int *order, int root, int count, ft__less less, const void *context)
{
    int child;
    while ((child = 2 * root + 1) < count) {
        int swap = order[root];
        if (child + 1 < count && less(context, order[child], order[child + 1])) child += 1;
        if (!less(context, swap, order[child])) return;
        order[root] = order[child];
        order[child] = swap;
        root = child;
    }
}

/* `less` must be a strict order in which no two are equal; order[] becomes 0..count-1 in it. */
static void ft__sort_order(int *order, int count, ft__less less, const void *context)
{
    int i;
    for (i = 0; i < count; ++i) order[i] = i;
    for (i = count / 2 - 1; i >= 0; --i) ft__sift_down(order, i, count, less, context);
    for (i = count - 1; i > 0; --i) {
        int swap = order[0];
        order[0] = order[i];
        order[i] = swap;
        ft__sift_down(order, 0, i, less, context);
    }
}

/* =============================================================================================
   [SECTION] 6.1 Elementary functions
   Own ones, so that bits do not depend on the system's libm. They have no branches, only choices
   between two results that are both computed (ft__choose), and are always inlined: so compilers
   turn loops over them into vector code. Relative errors stay below 2e-7; NaN gives NaN.
   ============================================================================================= */
#if defined(__GNUC__)
#define FT__INLINE static inline __attribute__((always_inline))
#else
#define FT__INLINE static inline
#endif

FT__INLINE float ft__from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FT__INLINE uint32_t ft__to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* condition ? yes : no, by masks: from a plain one compilers make a branch when one side costs
   much, and then no vector code. */
FT__INLINE float ft__choose(bool condition, float yes, float no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return ft__from_bits((ft__to_bits(yes) & mask) | (ft__to_bits(no) & ~mask));
}

FT__INLINE float ft__absolute(float x) { return ft__from_bits(ft__to_bits(x) & 0x7fffffffu); }

FT__INLINE float ft__clamp(float x, float low, float high)
{
    float above = low > x ? low : x; /* NaN stays */
    return high < above ? high : above;
}

/* `size`, which is not negative, with the sign of x. */
FT__INLINE float ft__with_sign(float size, float x)
{
    return ft__from_bits(ft__to_bits(size) | (ft__to_bits(x) & 0x80000000u));
}

/* e^x - 1 and e^x, from x = n ln(2) + r with |r| <= ln(2)/2 and e^r - 1 by its Taylor polynomial of
   degree 7, whose remainder is below 2^-26. n is found by adding 1.5 * 2^23, which rounds to an
   integer; ln(2) is subtracted in two parts (Cody and Waite 1980). 2^n is made of two halves, for
   it may lie outside of what one float holds while the result does not. */
FT__INLINE float ft__exp_or_less_one(float x, bool less_one)
{
    const float magic = 12582912.0f;
    float low = ft__choose(x < -104.0f, -104.0f, x);
    float bound = ft__choose(low > 88.8f, 88.8f, low);
    uint32_t n = ft__to_bits(bound * 1.44269504f + magic) - ft__to_bits(magic), half, rest;
    float whole = (float)(int32_t)n, r = (bound - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.0f / 5040, first, second, power;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = r * r * p + r;
    half = (n + 254) >> 1; /* 2 * 127, the bias of a float's exponent, for both halves */
    rest = (n + 254) - half;
    first = ft__from_bits(half << 23);
    second = ft__from_bits(rest << 23);
    power = first * second;
    return less_one ? p * power + (power - 1.0f) : (p + 1.0f) * first * second;
}

FT__INLINE float ft__exp(float x) { return ft__exp_or_less_one(x, false); }

/* e^x - 1 for x <= 0, without losing small x. */
FT__INLINE float ft__expm1(float x) { return ft__exp_or_less_one(x, true); }

/* log(x), x = 2^e * m with m in [sqrt(1/2), sqrt(2)) and f = m - 1: log(m) = 2 atanh(s),
   s = f / (2 + f), = 2 s + s R, R = 2/3 s^2 + 2/5 s^4 + ...; |s| < 0.172, so that five terms are
   enough. 2 s is f - s f: then s, which is rounded, is in small terms only (fdlibm's arrangement).
   `rest` is what x lost by rounding, as a share of x. */
FT__INLINE float ft__ln_with_rest(float x, float rest)
{
    float scaled = ft__choose(x < 1.17549435e-38f, x * 16777216.0f, x);
    float shift = ft__choose(x < 1.17549435e-38f, 24.0f, 0.0f);
    uint32_t bits = ft__to_bits(scaled) - 0x3f3504f3u; /* so that m starts at sqrt(1/2) */
    float m = ft__from_bits((bits & 0x7fffffu) + 0x3f3504f3u);
    float e = (float)((int32_t)bits >> 23) - shift;
    float f = (m - 1.0f) + rest * m, s = f / (2.0f + f), z = s * s, p = 2.0f / 11;
    float y;
    p = p * z + 2.0f / 9;
    p = p * z + 2.0f / 7;
    p = p * z + 2.0f / 5;
    p = p * z + 2.0f / 3;
    y = e * 0.693359375f + ((e * -2.12194440e-4f - s * (f - z * p)) + f);
    y = ft__choose(x > 3.40282347e38f, x, y);
    y = ft__choose(x == 0, -(float)HUGE_VAL, y);
    return ft__choose(x >= 0, y, ft__from_bits(0x7fc00000u));
}

FT__INLINE float ft__ln(float x) { return ft__ln_with_rest(x, 0.0f); }

/* log(1 + x) without losing small x. */
FT__INLINE float ft__log1p(float x)
{
    float u = 1.0f + x;
    return ft__ln_with_rest(u, (x - (u - 1.0f)) / u);
}

FT__INLINE float ft__sigmoid(float x)
{
    float e = ft__exp(-ft__absolute(x)); /* 1 / (1 + e^-x), or e^x / (1 + e^x): never large */
    return ft__choose(x < 0, e, 1.0f) / (1.0f + e);
}

/* (E - 1) / (E + 1), E = e^2x; near 0, where that loses digits, Lambert's continued fraction
   x / (1 + z / (3 + z / (5 + z / (7 + z / (9 + z / 11))))), z = x^2. Odd to the bit. */
FT__INLINE float ft__tanh(float x)
{
    float a = ft__absolute(x), bound = ft__choose(a > 10.0f, 10.0f, a), z = bound * bound;
    float e = ft__exp(2.0f * bound);
    float top = bound * ((21.0f * z + 1260.0f) * z + 10395.0f);
    float bottom = ((z + 210.0f) * z + 4725.0f) * z + 10395.0f;
    float numerator = ft__choose(bound < 0.625f, top, e - 1.0f);
    float denominator = ft__choose(bound < 0.625f, bottom, e + 1.0f);
    return ft__with_sign(numerator / denominator, x);
}

/* log(1 + e^x), without overflow: max(x, 0) + log(1 + e^-|x|). */
FT__INLINE float ft__softplus(float x)
{
    return ft__choose(x > 0, x, 0.0f) + ft__log1p(ft__exp(-ft__absolute(x)));
}

/* Up to 0.8 the Taylor series (Abramowitz and Stegun 7.1.5), with a remainder below 2^-24; beyond,
   1 - e^q(x), where q is the polynomial of degree 6 that comes closest to ln(1 - erf(x)) on
   [0.8, 4] (own fit by Lawson's algorithm, weighted so that 1 - e^q is off by at most 2.6e-9). */
FT__INLINE float ft__erf(float x)
{
    float a = ft__absolute(x), bound = ft__choose(a > 4.0f, 4.0f, a), z = bound * bound;
    float p = -1.0f / 75600, q = 2.087037918e-4f;
    p = p * z + 1.0f / 9360;
    p = p * z - 1.0f / 1320;
    p = p * z + 1.0f / 216;
    p = p * z - 1.0f / 42;
    p = p * z + 1.0f / 10;
    p = p * z - 1.0f / 3;
    p = (bound + bound * z * p) * 1.12837917f;
    q = q * bound - 3.164928714e-3f;
    q = q * bound + 2.269751014e-2f;
    q = q * bound - 1.048766316e-1f;
    q = q * bound - 6.361418787e-1f;
    q = q * bound - 1.128271475f;
    q = q * bound - 5.682286914e-5f;
    return ft__with_sign(ft__choose(bound < 0.8f, p, 1.0f - ft__exp(q)), x);
}

/* =============================================================================================
   [SECTION] 6.2 Matrix multiplication
   out [m, n] = a [m, k] b [k, n], as Goto and van de Geijn 2008: a is packed into panels of as many
   rows as the micro-kernel has, b into panels of as many columns, and the micro-kernel keeps one
   tile of the result in registers while it walks along k.

   Every element of the result is summed over k in the same order, in blocks of FT__BLOCK_K, by the
   same instructions: tiles at the edges are padded, not treated apart. So its bits depend neither
   on m, n, the place of the element, nor on how the work is parted among threads.
   ============================================================================================= */
#define FT__BLOCK_K ((size_t)256)
#define FT__BLOCK_M ((size_t)240) /* a multiple of every tile's rows: 4, 6, 8 */
#define FT__BLOCK_N ((size_t)512)
#define FT__TILE_ROWS 8           /* the most rows of a tile */
#define FT__TILE_MOST (FT__TILE_ROWS * 32)

typedef struct ft__matrix { const float *at; ptrdiff_t row, column; } ft__matrix; /* strides */

static ft__matrix ft__rows_of(const float *at, size_t row_length)
{
    ft__matrix matrix;
    matrix.at = at;
    matrix.row = (ptrdiff_t)row_length;
    matrix.column = 1;
    return matrix;
}

static ft__matrix ft__transposed(ft__matrix matrix)
{
    ptrdiff_t swap = matrix.row;
    matrix.row = matrix.column;
    matrix.column = swap;
    return matrix;
}

/* A micro-kernel: tile [rows, columns] = a b. Row i of `a` is gathered in `taps` stretches: number
   p of stretch t is a[t * rows + i][p * step]. A plain matrix has one stretch; a convolution has
   one for each place of its kernel, which spares the copy that im2col makes. `b` is packed: k
   numbers a tap, each a line of `columns`. The result goes to `out`, or is added to it. */
typedef void (*ft__tile_function)(size_t taps, size_t k, const float *const *a, size_t step,
                                  const float *b, float *out, size_t stride, bool accumulate);

/* The plain one, and the tests' oracle for the others: 4 rows, `columns` 8 or (narrow) 4. */
FT__INLINE void ft__tile_plain_any(int columns, size_t taps, size_t k, const float *const *a,
                                   size_t step, const float *b, float *out, size_t stride,
                                   bool accumulate)
{
    float sum[4][8] = {{0}};
    size_t p;
    int i, j;
    for (; taps > 0; --taps, a += 4)
        for (p = 0; p < k; ++p, b += columns)
            for (i = 0; i < 4; ++i)
                for (j = 0; j < columns; ++j) sum[i][j] += a[i][p * step] * b[j];
    for (i = 0; i < 4; ++i)
        for (j = 0; j < columns; ++j)
            out[(size_t)i * stride + (size_t)j] = accumulate
                ? out[(size_t)i * stride + (size_t)j] + sum[i][j] : sum[i][j];
}

static void ft__tile_plain(size_t taps, size_t k, const float *const *a, size_t step,
                           const float *b, float *out, size_t stride, bool accumulate)
{
    ft__tile_plain_any(8, taps, k, a, step, b, out, stride, accumulate);
}

static void ft__tile_plain_narrow(size_t taps, size_t k, const float *const *a, size_t step,
                                  const float *b, float *out, size_t stride, bool accumulate)
{
    ft__tile_plain_any(4, taps, k, a, step, b, out, stride, accumulate);
}

#if defined(__GNUC__) && !defined(FINETUNE_NO_SIMD)
#if defined(__x86_64__) || defined(__i386__)
#define FT__X86 1
#elif defined(__aarch64__)
#define FT__ARM 1
#endif
#endif

#if defined(FT__X86) || defined(FT__ARM)
/* One body for every instruction set: rows x (2 vectors) sums stay in registers (8 x 2 of 32 with
   AVX-512 and NEON, 6 x 2 of 16 with AVX2, 4 x 2 of 16 with SSE2). 14 x 2 is no faster with AVX-512
   on large matrices, and networks have channels in multiples of 8. Multiply and add are fused where
   the set can, which -std=c99 would forbid: hence the pragmas. */
#if defined(__clang__)
#define FT__FUSED _Pragma("clang fp contract(fast)")
#else
#define FT__FUSED
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif
#define FT__TILE(name, attributes, lanes, rows, vectors)                                          \
    typedef float name##_vector __attribute__((vector_size(4 * lanes)));                          \
    typedef float name##_loose __attribute__((vector_size(4 * lanes), aligned(4), may_alias));    \
    typedef int32_t name##_mask __attribute__((vector_size(4 * lanes)));                          \
    attributes FT__INLINE name##_vector name##_clamp(name##_vector x, name##_vector low,          \
                                                     name##_vector high)                          \
    {                                                                                             \
        name##_mask outside = low > x; /* NaN stays */                                            \
        x = (name##_vector)(((name##_mask)low & outside) | ((name##_mask)x & ~outside));          \
        outside = high < x;                                                                       \
        return (name##_vector)(((name##_mask)high & outside) | ((name##_mask)x & ~outside));      \
    }                                                                                             \
    attributes static void name(size_t taps, size_t k, const float *const *a, size_t step,        \
                                const float *b, float *out, size_t stride, bool accumulate)       \
    {                                                                                             \
        FT__FUSED                                                                                 \
        name##_vector sum[rows][vectors], right[vectors];                                         \
        const float *row[rows];                                                                   \
        size_t p, at;                                                                             \
        int i, v;                                                                                 \
        memset(sum, 0, sizeof sum);                                                               \
        for (; taps > 0; --taps, a += rows) {                                                     \
            FT__UNROLL for (i = 0; i < rows; ++i) row[i] = a[i];                                  \
            for (p = 0, at = 0; p < k; ++p, at += step, b += vectors * lanes) {                   \
                FT__UNROLL for (v = 0; v < vectors; ++v)                                          \
                    right[v] = *(const name##_loose *)(const void *)(b + v * lanes);              \
                FT__UNROLL for (i = 0; i < rows; ++i)                                             \
                    FT__UNROLL for (v = 0; v < vectors; ++v) sum[i][v] += row[i][at] * right[v];  \
            }                                                                                     \
        }                                                                                         \
        FT__UNROLL for (i = 0; i < rows; ++i)                                                     \
            FT__UNROLL for (v = 0; v < vectors; ++v) {                                            \
                float *to = out + (size_t)i * stride + v * lanes;                                 \
                if (accumulate) sum[i][v] += *(name##_loose *)(void *)to;                         \
                *(name##_loose *)(void *)to = sum[i][v];                                          \
            }                                                                                     \
    }
#if defined(__clang__)
#define FT__UNROLL _Pragma("clang loop unroll(full)")
#else
#define FT__UNROLL _Pragma("GCC unroll 16")
#endif
#ifdef FT__X86
FT__TILE(ft__tile_sse2, __attribute__((target("sse2"))), 4, 4, 2)
FT__TILE(ft__tile_sse2_narrow, __attribute__((target("sse2"))), 4, 4, 1)
FT__TILE(ft__tile_avx2, __attribute__((target("avx2,fma"))), 8, 6, 2)
FT__TILE(ft__tile_avx2_narrow, __attribute__((target("avx2,fma"))), 8, 6, 1)
FT__TILE(ft__tile_avx512, __attribute__((target("avx512f"))), 16, 8, 2)
FT__TILE(ft__tile_avx512_narrow, __attribute__((target("avx512f"))), 16, 8, 1)
#else
FT__TILE(ft__tile_neon, , 4, 8, 2)
FT__TILE(ft__tile_neon_narrow, , 4, 8, 1)
#endif
#if !defined(__clang__)
#pragma GCC pop_options
#endif
#endif

/* `narrow` makes half as many columns. */
typedef struct ft__tile_row {
    const char *name;
    size_t rows, columns;
    ft__tile_function run, narrow;
} ft__tile_row;

/* The slowest first. The numbers of the levels are the same in every build: files hold them. */
enum { FT__SIMD_NONE, FT__SIMD_SSE2, FT__SIMD_AVX2, FT__SIMD_AVX512, FT__SIMD_NEON,
       FT__SIMD_COUNT };

static const ft__tile_row ft__tiles[] = {
    {"none", 4, 8, ft__tile_plain, ft__tile_plain_narrow},
#ifdef FT__X86
    {"sse2", 4, 8, ft__tile_sse2, ft__tile_sse2_narrow},
    {"avx2", 6, 16, ft__tile_avx2, ft__tile_avx2_narrow},
    {"avx512", 8, 32, ft__tile_avx512, ft__tile_avx512_narrow},
#else
    {"sse2", 0, 0, NULL, NULL}, {"avx2", 0, 0, NULL, NULL}, {"avx512", 0, 0, NULL, NULL},
#endif
#ifdef FT__ARM
    {"neon", 8, 8, ft__tile_neon, ft__tile_neon_narrow},
#else
    {"neon", 0, 0, NULL, NULL},
#endif
};

static bool ft__simd_available(int level)
{
    if (!ft__tiles[level].run) return false;
#ifdef FT__X86
    if (level == FT__SIMD_SSE2) return __builtin_cpu_supports("sse2") != 0;
    if (level == FT__SIMD_AVX2)
        return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    if (level == FT__SIMD_AVX512) return __builtin_cpu_supports("avx512f") != 0;
#endif
    return true;
}

/* The level that ft_desc.simd names, or else the best. */
static ft_status ft__simd_choose(ft__context *c)
{
    int level;
    for (level = FT__SIMD_COUNT - 1; level >= 0; --level) {
        bool named = c->desc.simd && strcmp(c->desc.simd, ft__tiles[level].name) == 0;
        if (c->desc.simd && !named) continue;
        if (ft__simd_available(level)) {
            c->simd = level;
            return c->status;
        }
        if (named)
            return ft__fail(c, FT_UNSUPPORTED, "simd %s: not in this processor or build",
                            c->desc.simd);
    }
    return ft__fail(c, FT_INVALID, "simd %s: there are none, sse2, avx2, avx512, neon",
                    c->desc.simd);
}

/* ---- Packing ---- */

static size_t ft__pad_to(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* Numbers that a packed left matrix takes, and that one multiplication takes to pack the right. */
static size_t ft__packed_left(const ft__context *c, size_t m, size_t k)
{
    return ft__pad_to(m, ft__tiles[c->simd].rows) * k;
}

static size_t ft__gemm_scratch(void) { return FT__BLOCK_K * (FT__BLOCK_N + 32); }

#if (defined(FT__X86) || defined(FT__ARM)) && (defined(__clang__) || __GNUC__ >= 12)
#define FT__SHUFFLE 1
typedef float ft__four __attribute__((vector_size(16)));
typedef float ft__loose_four __attribute__((vector_size(16), aligned(4), may_alias));
#define FT__FOUR(p) (*(const ft__loose_four *)(const void *)(p))
#define FT__PUT_FOUR(p) (*(ft__loose_four *)(void *)(p))
#endif

/* Four lines, `line` apart, of `k` neighbouring numbers each, as columns of a panel. */
static void ft__pack_four(const float *from, ptrdiff_t line, size_t k, size_t width, float *to)
{
    size_t p = 0;
    int i;
#ifdef FT__SHUFFLE
    for (; p + 4 <= k; p += 4, to += 4 * width) {
        ft__four a = FT__FOUR(from + p), b = FT__FOUR(from + line + p);
        ft__four c = FT__FOUR(from + 2 * line + p), d = FT__FOUR(from + 3 * line + p);
        ft__four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5); /* a0 b0 a1 b1 */
        ft__four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        FT__PUT_FOUR(to) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        FT__PUT_FOUR(to + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        FT__PUT_FOUR(to + 2 * width) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        FT__PUT_FOUR(to + 3 * width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    }
#endif
    for (; p < k; ++p, to += width)
        for (i = 0; i < 4; ++i) to[i] = from[i * line + (ptrdiff_t)p];
}

/* Copies k rows that are as long as a panel is wide: the sizes are spelled out, so that the
   compiler makes each copy a few moves instead of a call. */
static void ft__pack_rows(const float *from, ptrdiff_t stride, size_t width, size_t k, float *to)
{
    for (; k > 0; --k, from += stride, to += width) {
        if (width == 32) memcpy(to, from, 32 * sizeof(float));
        else if (width == 16) memcpy(to, from, 16 * sizeof(float));
        else if (width == 8) memcpy(to, from, 8 * sizeof(float));
        else memcpy(to, from, width * sizeof(float));
    }
}

/* One panel: `width` lines (the rest zero) of a matrix, element by element along k. */
static void ft__pack_panel(ft__matrix a, size_t lines, size_t width, size_t k, float *to)
{
    size_t i, p, begin;
    if (a.row == 1 && lines == width) {
        ft__pack_rows(a.at, a.column, width, k, to);
        return;
    }
    for (begin = 0; begin < k; begin += 16) { /* a stretch of k that stays in the first cache */
        size_t end = k - begin < 16 ? k : begin + 16;
        const float *from = a.at + (ptrdiff_t)begin * a.column;
        for (i = 0; a.column == 1 && i + 4 <= lines; i += 4)
            ft__pack_four(from + (ptrdiff_t)i * a.row, a.row, end - begin, width,
                          to + begin * width + i);
        for (; i < width; ++i) {
            const float *line = a.at + (ptrdiff_t)i * a.row;
            for (p = begin; i < lines && p < end; ++p)
                to[p * width + i] = line[(ptrdiff_t)p * a.column];
            for (p = begin; i >= lines && p < end; ++p) to[p * width + i] = 0;
        }
    }
}

/* Packs all of a [m, k]: for each block of k, panel after panel. */
static void ft__pack_left(const ft__context *c, size_t m, size_t k, ft__matrix a, float *to)
{
    size_t rows = ft__tiles[c->simd].rows, p, i;
    for (p = 0; p < k; p += FT__BLOCK_K) {
        size_t depth = k - p < FT__BLOCK_K ? k - p : FT__BLOCK_K;
        for (i = 0; i < m; i += rows) {
            ft__matrix part = a;
            part.at += (ptrdiff_t)i * a.row + (ptrdiff_t)p * a.column;
            ft__pack_panel(part, m - i < rows ? m - i : rows, rows, depth, to);
            to += rows * depth;
        }
    }
}

/* ---- Multiplying ---- */

/* Columns of the panel that holds column j of n: whole, or half where that is enough. */
static size_t ft__panel_width(const ft__tile_row *tile, size_t n, size_t j)
{
    return n - j <= tile->columns / 2 ? tile->columns / 2 : tile->columns;
}

/* One tile, `width` columns of b wide, that may stick out at the edge: then it is made aside, and
   the m rows and n columns that fit are copied. */
static void ft__gemm_tile(const ft__tile_row *tile, size_t m, size_t n, size_t taps, size_t k,
                          const float *const *a, size_t step, const float *b, size_t width,
                          float *out, size_t stride, bool accumulate)
{
    ft__tile_function run = width == tile->columns ? tile->run : tile->narrow;
    float aside[FT__TILE_MOST];
    size_t i, j;
    if (m >= tile->rows && n >= width) {
        run(taps, k, a, step, b, out, stride, accumulate);
        return;
    }
    run(taps, k, a, step, b, aside, width, false);
    if (m > tile->rows) m = tile->rows;
    if (n > width) n = width;
    for (i = 0; i < m; ++i) {
        for (j = 0; !accumulate && j + 8 <= n; j += 8)
            memcpy(out + i * stride + j, aside + i * width + j, 8 * sizeof *out);
        for (; j < n; ++j)
            out[i * stride + j] = accumulate ? out[i * stride + j] + aside[i * width + j]
                                             : aside[i * width + j];
    }
}

/* out [m, n] (rows `stride` apart) = or += packed a [m, k] times b [k, n], on this thread.
   `scratch` holds ft__gemm_scratch() numbers. */
static void ft__gemm(const ft__context *c, size_t m, size_t n, size_t k, const float *packed,
                     ft__matrix b, float *out, size_t stride, bool accumulate, float *scratch)
{
    const ft__tile_row *tile = &ft__tiles[c->simd];
    size_t padded = ft__pad_to(m, tile->rows), j, p, i, jj, ii, r;
    const float *row[FT__TILE_ROWS];
    for (j = 0; j < n; j += FT__BLOCK_N)
        for (p = 0; p < k; p += FT__BLOCK_K) {
            size_t wide = n - j < FT__BLOCK_N ? n - j : FT__BLOCK_N;
            size_t depth = k - p < FT__BLOCK_K ? k - p : FT__BLOCK_K, width;
            for (jj = 0; jj < wide; jj += width) {
                ft__matrix part = ft__transposed(b);
                width = ft__panel_width(tile, wide, jj);
                part.at += (ptrdiff_t)(j + jj) * part.row + (ptrdiff_t)p * part.column;
                ft__pack_panel(part, wide - jj < width ? wide - jj : width, width, depth,
                               scratch + jj * depth);
            }
            for (i = 0; i < m; i += FT__BLOCK_M) {
                size_t rows = m - i < FT__BLOCK_M ? m - i : FT__BLOCK_M;
                for (jj = 0; jj < wide; jj += width) {
                    width = ft__panel_width(tile, wide, jj);
                    for (ii = i; ii < i + rows; ii += tile->rows) {
                        for (r = 0; r < tile->rows; ++r)
                            row[r] = packed + padded * p + ii * depth + r;
                        ft__gemm_tile(tile, m - ii, wide - jj, 1, depth, row, tile->rows,
                                      scratch + jj * depth, width, out + ii * stride + j + jj,
                                      stride, accumulate || p > 0);
                    }
                }
            }
        }
}

/* ---- On all threads: the result is parted into pieces, and slot i of as many as there are threads
   takes the pieces i, i + slots, ... ---- */
typedef struct ft__product {
    ft__context *context;
    size_t m, n, k, stride;
    ft__matrix a, b;
    float *out, *workspace;
    bool accumulate;
    size_t *next;           /* the next piece that nobody has taken */
} ft__product;

#define FT__PIECE_M ((size_t)240)
#define FT__PIECE_N ((size_t)256)

static void ft__product_slot(void *context, int slot)
{
    const ft__product *x = (const ft__product *)context;
    ft__context *c = x->context;
    size_t across = (x->n + FT__PIECE_N - 1) / FT__PIECE_N;
    size_t pieces = across * ((x->m + FT__PIECE_M - 1) / FT__PIECE_M), piece;
    size_t left = ft__packed_left(c, FT__PIECE_M, x->k);
    float *packed = x->workspace + (size_t)slot * (left + ft__gemm_scratch());
    FT__PIECES(piece, x->next, slot, c->threads, pieces) {
        size_t i = piece / across * FT__PIECE_M, j = piece % across * FT__PIECE_N;
        size_t m = x->m - i < FT__PIECE_M ? x->m - i : FT__PIECE_M;
        size_t n = x->n - j < FT__PIECE_N ? x->n - j : FT__PIECE_N;
        ft__matrix a = x->a, b = x->b;
        a.at += (ptrdiff_t)i * a.row;
        b.at += (ptrdiff_t)j * b.column;
        ft__pack_left(c, m, x->k, a, packed);
        ft__gemm(c, m, n, x->k, packed, b, x->out + i * x->stride + j, x->stride, x->accumulate,
                 packed + left);
    }
}

/* Numbers of workspace that ft__gemm_parallel takes for this k. */
static size_t ft__gemm_workspace(const ft__context *c, size_t k)
{
    return (size_t)c->threads * (ft__packed_left(c, FT__PIECE_M, k) + ft__gemm_scratch());
}

static void ft__gemm_parallel(ft__context *c, size_t m, size_t n, size_t k, ft__matrix a,
                              ft__matrix b, float *out, size_t stride, bool accumulate,
                              float *workspace)
{
    ft__product x;
    size_t next = 0;
    x.context = c;
    x.next = &next;
    x.m = m;
    x.n = n;
    x.k = k;
    x.a = a;
    x.b = b;
    x.out = out;
    x.stride = stride;
    x.accumulate = accumulate;
    x.workspace = workspace;
    ft__parallel(c, c->threads, ft__product_slot, &x);
}

/* =============================================================================================
   [SECTION] 6.3 Convolution kernels
   Pictures lie in memory pixel after pixel, all channels of a pixel together ("channels last",
   [N, H, W, C]). Then what a kernel sees at one of its places, a tap, is a stretch of `channels`
   neighbouring numbers, and a convolution is a matrix product whose left rows are gathered by
   pointers, one stretch a tap: no matrix of patches is written (Dukhan 2019, "The indirect
   convolution algorithm"). Only where the channels are few (the picture itself) patches are copied
   first. Depthwise convolutions have one channel to a kernel: loops over the channels of a pixel.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast") /* gcc's -O2 leaves these loops scalar */
#endif
/* Makes one function for each instruction set from one body of plain loops, which the compiler
   vectorises; name[context->simd] is the one to call. */
#ifdef FT__X86
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    __attribute__((target("avx2,fma"))) static void name##_avx2 parameters { body; }              \
    __attribute__((target("avx512f"))) static void name##_avx512 parameters { body; }             \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_avx2, name##_avx512, name##_plain};
#else
#define FT__LEVELS(name, parameters, body)                                                        \
    static void name##_plain parameters { body; }                                                 \
    static void (*const name[FT__SIMD_COUNT]) parameters = {                                      \
        name##_plain, name##_plain, name##_plain, name##_plain, name##_plain};
#endif

typedef struct ft__conv {
    size_t batch, groups;
    int channels, outputs;          /* of one group */
    int height, width;              /* of the input */
    int out_height, out_width;
    int kernel[2], stride[2], dilation[2];
    int top, left;                  /* padding before */
    size_t k, p;                    /* numbers in a patch; pixels of an output */
} ft__conv;

/* A walk over the points of a grid in every picture, reading `taps` stretches at each. */
typedef struct ft__walk {
    const float *from;      /* [pictures, height, width, pixel] */
    int height, width;
    size_t pixel;           /* numbers of one pixel, all groups */
    size_t channels;        /* numbers of a stretch */
    int rows, columns;      /* of the grid */
    int step[2];            /* how far two points of the grid lie apart in `from` */
    int taps;
    const int *offset;      /* [taps][2]: where a tap reads, from the point: row and column */
    const float *zeros;     /* at least `channels`: what lies outside */
} ft__walk;

/* A point of the grids of all pictures, and the one after it: without divisions. */
typedef struct ft__point { size_t picture; int row, column; } ft__point;

static ft__point ft__point_at(size_t index, int rows, int columns)
{
    size_t plane = (size_t)rows * (size_t)columns;
    ft__point point;
    point.picture = index / plane;
    point.row = (int)(index % plane / (size_t)columns);
    point.column = (int)(index % plane % (size_t)columns);
    return point;
}

static void ft__point_next(ft__point *point, int rows, int columns)
{
    if (++point->column < columns) return;
    point->column = 0;
    if (++point->row < rows) return;
    point->row = 0;
    point->picture += 1;
}

#define FT__WALK_TILES ((size_t)8)     /* tiles whose pointers are made at once */
#define FT__WALK_DEPTH ((size_t)1024)  /* numbers of a row in one go: panels stay in the cache */

/* Pointers for `count` points from `first` on: [tile][tap][row of the tile]. The last tile is
   filled up with its last point. */
static void ft__walk_rows(const ft__walk *w, size_t first, size_t count, size_t tile_rows,
                          const float **table)
{
    size_t i, padded = ft__pad_to(count, tile_rows);
    ft__point at = ft__point_at(first, w->rows, w->columns);
    int tap;
    if (w->taps == 1 && w->step[0] == 1 && w->step[1] == 1 && w->offset[0] == 0
        && w->offset[1] == 0 && w->rows == w->height && w->columns == w->width) {
        for (i = 0; i < padded; ++i) /* a plain matrix: one row after the other */
            table[i] = w->from + (first + (i < count ? i : count - 1)) * w->pixel;
        return;
    }
    for (i = 0; i < padded; ++i) {
        const float **to = table + i / tile_rows * tile_rows * (size_t)w->taps + i % tile_rows;
        const float *picture = w->from
            + at.picture * (size_t)w->height * (size_t)w->width * w->pixel;
        int row = at.row * w->step[0], column = at.column * w->step[1];
        for (tap = 0; tap < w->taps; ++tap, to += tile_rows) {
            int y = row + w->offset[2 * tap], x = column + w->offset[2 * tap + 1];
            bool inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
            *to = inside ? picture + ((size_t)y * (size_t)w->width + (size_t)x) * w->pixel
                         : w->zeros;
        }
        if (i + 1 < count) ft__point_next(&at, w->rows, w->columns);
    }
}

/* out [count, n] = or += the gathered rows times packed b [taps * k, n]. */
static void ft__multiply_rows(const ft__tile_row *tile, const float *const *table, size_t count,
                              size_t taps, size_t k, const float *packed, size_t n, float *out,
                              size_t stride, bool accumulate)
{
    size_t at_once = k < FT__WALK_DEPTH ? FT__WALK_DEPTH / k : 1, j, t, i, width;
    for (j = 0; j < n; j += width) {
        width = ft__panel_width(tile, n, j);
        for (t = 0; t < taps; t += at_once) {
            size_t part = taps - t < at_once ? taps - t : at_once;
            for (i = 0; i < count; i += tile->rows)
                ft__gemm_tile(tile, count - i, n - j, part, k, table + i * taps + t * tile->rows,
                              1, packed + j * taps * k + t * k * width, width,
                              out + i * stride + j, stride, accumulate || t > 0);
        }
    }
}

/* What comes after a product [count, columns]: y = clamp(y + bias), while y is in the cache. */
typedef struct ft__finish {
    float *y;
    size_t count, columns, stride;
    const float *bias;      /* NULL: none */
    bool clamp;             /* to [low, high] */
    float low, high;
} ft__finish;

/* Columns from `at` on, one by one: the oracle of what follows. */
static void ft__finish_plain(const ft__finish *f, size_t at)
{
    size_t row, l;
    for (row = 0; row < f->count; ++row)
        for (l = at; l < f->columns; ++l) {
            float *y = f->y + row * f->stride + l, sum = *y + (f->bias ? f->bias[l] : 0);
            *y = f->clamp ? ft__clamp(sum, f->low, f->high) : sum;
        }
}

/* The same for vectors of columns; returns the first column that is left. */
#define FT__FINISH(name, attributes, tile, lanes)                                                 \
    attributes static size_t name(const ft__finish *f, size_t at)                                 \
    {                                                                                             \
        tile##_vector zero = {0}, low = f->low - zero, high = f->high - zero;                     \
        size_t row;                                                                               \
        for (; at + lanes <= f->columns; at += lanes) {                                           \
            tile##_vector bias = {0};                                                             \
            float *y = f->y + at;                                                                 \
            if (f->bias) bias = *(const tile##_loose *)(const void *)(f->bias + at);              \
            for (row = 0; row < f->count; ++row, y += f->stride) {                                \
                tile##_vector sum = *(const tile##_loose *)(const void *)y + bias;                \
                if (f->clamp) sum = tile##_clamp(sum, low, high);                                 \
                *(tile##_loose *)(void *)y = sum;                                                 \
            }                                                                                     \
        }                                                                                         \
        return at;                                                                                \
    }
#ifdef FT__X86
FT__FINISH(ft__finish_sse2, __attribute__((target("sse2"))), ft__tile_sse2, 4)
FT__FINISH(ft__finish_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2, 8)
FT__FINISH(ft__finish_avx512, __attribute__((target("avx512f"))), ft__tile_avx512, 16)
#elif defined(FT__ARM)
FT__FINISH(ft__finish_neon, , ft__tile_neon, 4)
#endif

static void ft__finish_run(const ft__context *context, const ft__finish *f)
{
    size_t at = 0;
#ifdef FT__X86
    if (context->simd == FT__SIMD_AVX512) at = ft__finish_avx512(f, at);
    if (context->simd >= FT__SIMD_AVX2) at = ft__finish_avx2(f, at);
    if (context->simd == FT__SIMD_SSE2) at = ft__finish_sse2(f, at);
#elif defined(FT__ARM)
    if (context->simd == FT__SIMD_NEON) at = ft__finish_neon(f, at);
#endif
    (void)context;
    ft__finish_plain(f, at);
}

/* ---- Weights as a right matrix: number [tap * k + c][n] is weight[n * n_step + c * k_step +
   tap_at[tap]] ---- */
typedef struct ft__weight_pack {
    const ft__tile_row *tile;
    const float *weight;
    size_t n, k, n_step, k_step;
    int taps;
    const int *tap_at;
    float *to;
} ft__weight_pack;

static size_t ft__packed_right(const ft__context *c, size_t n, size_t depth)
{
    return ft__pad_to(n, ft__tiles[c->simd].columns) * depth;
}

static void ft__pack_weight_panel(void *context, int index)
{
    const ft__weight_pack *w = (const ft__weight_pack *)context;
    size_t j = (size_t)index * w->tile->columns, width = ft__panel_width(w->tile, w->n, j);
    size_t valid = w->n - j < width ? w->n - j : width, c, l;
    float *panel = w->to + j * (size_t)w->taps * w->k;
    int tap;
    for (c = 0; c < w->k; ++c)
        for (tap = 0; tap < w->taps; ++tap) {
            const float *from = w->weight + j * w->n_step + c * w->k_step + w->tap_at[tap];
            float *to = panel + ((size_t)tap * w->k + c) * width;
            for (l = 0; l < valid; ++l) to[l] = from[l * w->n_step];
            for (; l < width; ++l) to[l] = 0;
        }
}

static void ft__pack_weights(ft__context *c, ft__weight_pack *w)
{
    w->tile = &ft__tiles[c->simd];
    ft__parallel(c, (int)((w->n + w->tile->columns - 1) / w->tile->columns), ft__pack_weight_panel,
                 w);
}

/* ---- Patches, where the channels are few ---- */

static bool ft__few_channels(const ft__conv *g) { return g->channels < 8; }

static void ft__copy_numbers(float *to, const float *from, size_t count)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4) memcpy(to + i, from + i, 4 * sizeof *to);
    for (; i < count; ++i) to[i] = from[i];
}

/* One row of a kernel over one line of the picture (NULL: outside): the neighbours that lie inside
   are copied in one go where they are neighbours in memory too. */
static void ft__patch_line(const ft__conv *g, const float *line, int x, float *to)
{
    size_t c = (size_t)g->channels, pixel = c * g->groups, each;
    int from = 0, until = g->kernel[1], i;
    if (g->dilation[1] == 1 && g->groups == 1 && line) {
        if (x < 0) from = -x < until ? -x : until;
        if (x + until > g->width) until = g->width - x > from ? g->width - x : from;
        for (each = 0; each < (size_t)from * c; ++each) to[each] = 0;
        ft__copy_numbers(to + (size_t)from * c, line + ((ptrdiff_t)x + from) * (ptrdiff_t)c,
                         (size_t)(until - from) * c);
        for (each = (size_t)until * c; each < (size_t)g->kernel[1] * c; ++each) to[each] = 0;
        return;
    }
    for (i = 0; i < g->kernel[1]; ++i, x += g->dilation[1])
        for (each = 0; each < c; ++each)
            *to++ = line && x >= 0 && x < g->width ? line[(size_t)x * pixel + each] : 0;
}

/* Patches [count, k] of the output pixels from `first` on, numbers in the order [tap][channel]. */
static void ft__patches(const ft__conv *g, const float *x, size_t first, size_t count, float *to)
{
    size_t line = (size_t)g->width * (size_t)g->channels * g->groups, i;
    int ky;
    for (i = first; i < first + count; ++i) {
        const float *picture = x + i / g->p * (size_t)g->height * line;
        int row = (int)(i % g->p / (size_t)g->out_width) * g->stride[0] - g->top;
        int column = (int)(i % g->p % (size_t)g->out_width) * g->stride[1] - g->left;
        for (ky = 0; ky < g->kernel[0]; ++ky, row += g->dilation[0]) {
            bool inside = row >= 0 && row < g->height;
            ft__patch_line(g, inside ? picture + (size_t)row * line : NULL, column, to);
            to += g->kernel[1] * g->channels;
        }
    }
}

/* Pointers as ft__walk_rows makes them, with a row of the kernel for a stretch: its pixels are
   neighbours in memory. Only those that stick out of the picture are copied, to `patches` [count,
   k]. x3 on MobileNet's first convolution against copies of all. */
static void ft__few_rows(const ft__conv *g, const float *x, size_t first, size_t count,
                         size_t tile_rows, const float *zeros, float *patches, const float **table)
{
    size_t line = (size_t)g->width * (size_t)g->channels * g->groups, i;
    size_t taps = (size_t)g->kernel[0], k = g->k / taps;
    ft__point at = ft__point_at(first, g->out_height, g->out_width);
    bool near = g->groups == 1 && g->dilation[1] == 1;
    for (i = 0; i < ft__pad_to(count, tile_rows); ++i) {
        const float **to = table + i / tile_rows * tile_rows * taps + i % tile_rows;
        const float *picture = x + at.picture * (size_t)g->height * line;
        int row = at.row * g->stride[0] - g->top, column = at.column * g->stride[1] - g->left, ky;
        bool whole = near && column >= 0 && column + g->kernel[1] <= g->width;
        for (ky = 0; ky < g->kernel[0]; ++ky, row += g->dilation[0], to += tile_rows) {
            *to = zeros;
            if (row < 0 || row >= g->height) continue;
            if (whole) *to = picture + (size_t)row * line + column * g->channels;
            else {
                float *patch = patches + (i < count ? i : count - 1) * g->k + (size_t)ky * k;
                ft__patch_line(g, picture + (size_t)row * line, column, patch);
                *to = patch;
            }
        }
        if (i + 1 < count) ft__point_next(&at, g->out_height, g->out_width);
    }
}

/* ---- Depthwise: y[c] = or += sum over rows and columns of a window of x[c] w[c], for `count`
   neighbours with windows of one form. All three directions are that: forward and the input's
   gradient over the kernel, the weight's gradient over the pixels. ---- */
typedef struct ft__window_sum {
    const float *x, *w;
    float *y;
    const float *bias;              /* NULL: none */
    bool add;                       /* to what is in y, instead of starting from the bias */
    bool clamp;                     /* the sums, to [low, high] */
    float low, high;
    size_t channels;
    int rows, columns, count;
    ptrdiff_t x_row, x_column, w_row, w_column;
    ptrdiff_t x_next, y_next;       /* from neighbour to neighbour */
    size_t x_step, w_step, y_step;  /* from channel to channel: 1, or the outputs of a channel */
} ft__window_sum;

/* Channels from `c` on, one by one: the oracle of what follows. */
static void ft__window_sum_plain(const ft__window_sum *s, size_t c)
{
    int n, r, i;
    for (; c < s->channels; ++c)
        for (n = 0; n < s->count; ++n) {
            float *y = s->y + n * s->y_next + (ptrdiff_t)(c * s->y_step), sum;
            sum = s->add ? *y : s->bias ? s->bias[c * s->y_step] : 0;
            for (r = 0; r < s->rows; ++r)
                for (i = 0; i < s->columns; ++i)
                    sum += s->x[n * s->x_next + r * s->x_row + i * s->x_column
                                + (ptrdiff_t)(c * s->x_step)]
                        * s->w[r * s->w_row + i * s->w_column + (ptrdiff_t)(c * s->w_step)];
            *y = s->clamp ? ft__clamp(sum, s->low, s->high) : sum;
        }
}

/* The same for a vector of channels of `many` neighbours at once: each weight is read once for all
   of them, and their sums do not wait for each other. */
#define FT__WINDOW(name, attributes, tile, lanes)                                                 \
    attributes FT__INLINE void name##_block(const ft__window_sum *s, size_t c, int n, int many)   \
    {                                                                                             \
        FT__FUSED                                                                                 \
        tile##_vector sum[4], zero = {0}, low = s->low - zero, high = s->high - zero;             \
        const float *x = s->x + n * s->x_next + c, *w = s->w + c;                                 \
        float *y = s->y + n * s->y_next + c;                                                      \
        int r, i, j;                                                                              \
        FT__UNROLL for (j = 0; j < many; ++j) {                                                   \
            if (s->add) sum[j] = *(const tile##_loose *)(const void *)(y + j * s->y_next);        \
            else if (s->bias) sum[j] = *(const tile##_loose *)(const void *)(s->bias + c);        \
            else sum[j] = zero;                                                                   \
        }                                                                                         \
        for (r = 0; r < s->rows; ++r)                                                             \
            for (i = 0; i < s->columns; ++i) {                                                    \
                const float *at = x + r * s->x_row + i * s->x_column;                             \
                tile##_vector right = *(const tile##_loose *)(const void *)                       \
                    (w + r * s->w_row + i * s->w_column);                                         \
                FT__UNROLL for (j = 0; j < many; ++j)                                             \
                    sum[j] += *(const tile##_loose *)(const void *)(at + j * s->x_next) * right;  \
            }                                                                                     \
        FT__UNROLL for (j = 0; j < many; ++j) {                                                   \
            if (s->clamp) sum[j] = tile##_clamp(sum[j], low, high);                               \
            *(tile##_loose *)(void *)(y + j * s->y_next) = sum[j];                                \
        }                                                                                         \
    }                                                                                             \
    attributes static size_t name(const ft__window_sum *s, size_t c)                              \
    {                                                                                             \
        int n;                                                                                    \
        for (; c + lanes <= s->channels; c += lanes) {                                            \
            for (n = 0; n + 4 <= s->count; n += 4) name##_block(s, c, n, 4);                      \
            for (; n < s->count; ++n) name##_block(s, c, n, 1);                                   \
        }                                                                                         \
        return c;                                                                                 \
    }
#ifdef FT__X86
FT__WINDOW(ft__window_sse2, __attribute__((target("sse2"))), ft__tile_sse2, 4)
FT__WINDOW(ft__window_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2, 8)
FT__WINDOW(ft__window_avx512, __attribute__((target("avx512f"))), ft__tile_avx512, 16)
#elif defined(FT__ARM)
FT__WINDOW(ft__window_neon, , ft__tile_neon, 4)
#endif

static void ft__window_sum_run(const ft__context *context, const ft__window_sum *s)
{
    size_t c = 0;
    if (s->x_step == 1 && s->w_step == 1 && s->y_step == 1) {
#ifdef FT__X86
        if (context->simd == FT__SIMD_AVX512) c = ft__window_avx512(s, c);
        if (context->simd >= FT__SIMD_AVX2) c = ft__window_avx2(s, c);
        if (context->simd == FT__SIMD_SSE2) c = ft__window_sse2(s, c);
#elif defined(FT__ARM)
        if (context->simd == FT__SIMD_NEON) c = ft__window_neon(s, c);
#endif
    }
    (void)context;
    ft__window_sum_plain(s, c);
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* =============================================================================================
   [SECTION] 6.4 Winograd's convolution
   F(4x4, 3x3) of Lavin and Gray 2016: a tile of 4x4 outputs of a 3x3 kernel with a stride of 1 is
       y = A^T [(G g G^T) * (B^T d B)] A,   d the 6x6 inputs that it sees, * number by number,
   36 multiplications instead of 144; the sums over channels become 36 matrix products. As the map
   is linear in g and in d, the gradients are its transposes:
       dx: the same with the kernel turned round,   dg = G^T [(B^T d B) * (A dy A^T)] G
   The transforms work on neighbouring channels side by side. `lane` is one number, or a vector.
   ============================================================================================= */
#define FT__TILE_INPUTS 36  /* 6x6 */

/* Six numbers to six: B^T d, and four to six: A dy, and three to six: G g; the way back, six to
   four: A^T m, and six to three: G^T m. `to` and `from` step by the distances given. */
#define FT__WINOGRAD_LINES(name, lane)                                                            \
    FT__INLINE void name##_b(const lane *d, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];                  \
        lane even = d4 - 4.0f * d2, odd = d3 - 4.0f * d1;                                         \
        lane even2 = d4 - d2, odd2 = 2.0f * (d3 - d1);                                            \
        to[0] = 4.0f * d[0] - 5.0f * d2 + d4;                                                     \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = 4.0f * d1 - 5.0f * d3 + d[5 * step];                                    \
    }                                                                                             \
    FT__INLINE void name##_a(const lane *y, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];                         \
        lane even = y0 + y2, odd = y1 + y3, even2 = y0 + 4.0f * y2, odd2 = 2.0f * y1 + 8.0f * y3; \
        to[0] = y0;                                                                               \
        to[to_step] = even + odd;                                                                 \
        to[2 * to_step] = even - odd;                                                             \
        to[3 * to_step] = even2 + odd2;                                                           \
        to[4 * to_step] = even2 - odd2;                                                           \
        to[5 * to_step] = y3;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_g(const lane *g, int step, lane *to, int to_step)                      \
    {                                                                                             \
        lane g0 = g[0], g1 = g[step], g2 = g[2 * step];                                           \
        lane outer = (g0 + g2) * (1.0f / 6), middle = g1 * (1.0f / 6);                            \
        lane outer2 = g0 * (1.0f / 24) + g2 * (1.0f / 6), middle2 = g1 * (1.0f / 12);             \
        to[0] = g0 * 0.25f;                                                                       \
        to[to_step] = -outer - middle;                                                            \
        to[2 * to_step] = middle - outer;                                                         \
        to[3 * to_step] = outer2 + middle2;                                                       \
        to[4 * to_step] = outer2 - middle2;                                                       \
        to[5 * to_step] = g2;                                                                     \
    }                                                                                             \
    FT__INLINE void name##_a_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, rest = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;                      \
        to[0] = m[0] + sum + sum2;                                                                \
        to[to_step] = rest + 2.0f * rest2;                                                        \
        to[2 * to_step] = sum + 4.0f * sum2;                                                      \
        to[3 * to_step] = rest + 8.0f * rest2 + m[5 * step];                                      \
    }                                                                                             \
    FT__INLINE void name##_g_back(const lane *m, int step, lane *to, int to_step)                 \
    {                                                                                             \
        lane m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];                  \
        lane sum = m1 + m2, sum2 = m3 + m4;                                                       \
        to[0] = 0.25f * m[0] - sum * (1.0f / 6) + sum2 * (1.0f / 24);                             \
        to[to_step] = (m2 - m1) * (1.0f / 6) + (m3 - m4) * (1.0f / 12);                           \
        to[2 * to_step] = (sum2 - sum) * (1.0f / 6) + m[5 * step];                                \
    }

/* Both directions of one block of channels, [rows][columns] to [rows][columns]: `in` and `out`
   numbers a line. */
#define FT__WINOGRAD_BOTH(name, line, lane, in, out)                                              \
    FT__INLINE void name(const lane *from, lane *to)                                              \
    {                                                                                             \
        lane half[FT__TILE_INPUTS];                                                               \
        int i;                                                                                    \
        FT__UNROLL for (i = 0; i < in; ++i) line(from + i, in, half + i, in);                     \
        FT__UNROLL for (i = 0; i < out; ++i) line(half + i * in, 1, to + i * out, 1);             \
    }

/* What the transforms work on. Pointers that are NULL stand for zeros, or are not written. */
typedef struct ft__winograd_tile {
    const float *from[FT__TILE_INPUTS];
    float *to[FT__TILE_INPUTS];
    const float *add;           /* to what comes out: a bias; NULL: nothing */
    bool accumulate;            /* add to what is there */
    size_t channels;            /* a multiple of 16 */
} ft__winograd_tile;

/* The transforms of a tile, for one instruction set: of inputs, of output gradients, of weights;
   back to outputs, and to weight gradients. */
#define FT__WINOGRAD_ONE(name, attributes, lane, loose, lanes, in, out)                           \
    attributes static void name(const ft__winograd_tile *t)                                       \
    {                                                                                             \
        FT__FUSED                                                                                 \
        lane x[FT__TILE_INPUTS], y[FT__TILE_INPUTS];                                              \
        size_t c;                                                                                 \
        int i;                                                                                    \
        for (c = 0; c < t->channels; c += lanes) {                                                \
            FT__UNROLL for (i = 0; i < in; ++i)                                                   \
                x[i] = *(const loose *)(const void *)(t->from[i] + c);                            \
            name##_block(x, y);                                                                   \
            FT__UNROLL for (i = 0; i < out; ++i) {                                                \
                loose *to = (loose *)(void *)(t->to[i] + c);                                      \
                if (!t->to[i]) continue;                                                          \
                if (t->add) y[i] += *(const loose *)(const void *)(t->add + c);                   \
                if (t->accumulate) y[i] += *to;                                                   \
                *to = y[i];                                                                       \
            }                                                                                     \
        }                                                                                         \
    }

#define FT__WINOGRAD(name, attributes, lane, loose, lanes)                                        \
    FT__WINOGRAD_LINES(name, lane)                                                                \
    FT__WINOGRAD_BOTH(name##_input_block, name##_b, lane, 6, 6)                                   \
    FT__WINOGRAD_BOTH(name##_gradient_block, name##_a, lane, 4, 6)                                \
    FT__WINOGRAD_BOTH(name##_weight_block, name##_g, lane, 3, 6)                                  \
    FT__WINOGRAD_BOTH(name##_output_block, name##_a_back, lane, 6, 4)                             \
    FT__WINOGRAD_BOTH(name##_kernel_block, name##_g_back, lane, 6, 3)                             \
    FT__WINOGRAD_ONE(name##_input, attributes, lane, loose, lanes, 36, 36)                        \
    FT__WINOGRAD_ONE(name##_gradient, attributes, lane, loose, lanes, 16, 36)                     \
    FT__WINOGRAD_ONE(name##_weight, attributes, lane, loose, lanes, 9, 36)                        \
    FT__WINOGRAD_ONE(name##_output, attributes, lane, loose, lanes, 36, 16)                       \
    FT__WINOGRAD_ONE(name##_kernel, attributes, lane, loose, lanes, 36, 9)

#ifndef FT__UNROLL
#define FT__UNROLL
#define FT__FUSED
#endif

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif
FT__WINOGRAD(ft__winograd_plain, , float, float, 1)
#ifdef FT__X86
FT__WINOGRAD(ft__winograd_sse2, __attribute__((target("sse2"))), ft__tile_sse2_vector,
             ft__tile_sse2_loose, 4)
FT__WINOGRAD(ft__winograd_avx2, __attribute__((target("avx2,fma"))), ft__tile_avx2_vector,
             ft__tile_avx2_loose, 8)
FT__WINOGRAD(ft__winograd_avx512, __attribute__((target("avx512f"))), ft__tile_avx512_vector,
             ft__tile_avx512_loose, 16)
#elif defined(FT__ARM)
FT__WINOGRAD(ft__winograd_neon, , ft__tile_neon_vector, ft__tile_neon_loose, 4)
#endif
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

typedef struct ft__winograd_row {
    void (*input)(const ft__winograd_tile *t);
    void (*gradient)(const ft__winograd_tile *t);
    void (*weight)(const ft__winograd_tile *t);
    void (*output)(const ft__winograd_tile *t);
    void (*kernel)(const ft__winograd_tile *t);
} ft__winograd_row;

#define FT__WINOGRAD_ROW(name)                                                                    \
    {name##_input, name##_gradient, name##_weight, name##_output, name##_kernel}

static const ft__winograd_row ft__winograds[FT__SIMD_COUNT] = {
    FT__WINOGRAD_ROW(ft__winograd_plain),
#ifdef FT__X86
    FT__WINOGRAD_ROW(ft__winograd_sse2), FT__WINOGRAD_ROW(ft__winograd_avx2),
    FT__WINOGRAD_ROW(ft__winograd_avx512), FT__WINOGRAD_ROW(ft__winograd_plain)
#elif defined(FT__ARM)
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain),
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_neon)
#else
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain),
    FT__WINOGRAD_ROW(ft__winograd_plain), FT__WINOGRAD_ROW(ft__winograd_plain)
#endif
};

/* ---- Which convolutions, and in what memory ---- */
#define FT__WINOGRAD_LOCAL ((size_t)1 << 18)   /* numbers of a chunk that one thread works on */
#define FT__WINOGRAD_SHARED ((size_t)9 << 19)  /* numbers of a chunk that all work on */
#define FT__WINOGRAD_LARGE ((size_t)128 * 128) /* weights above this are parted among threads, */
#define FT__WINOGRAD_DEPTH ((size_t)128)       /* so many channels of a panel at a time */

/* The gain in multiplications must make up for the transforms: 36 a tile against 9 an output. It
   does not depend on the batch, so that a sample's bits do not either. */
static bool ft__winograd_fits(const ft__conv *g)
{
    size_t tiles = (size_t)((g->out_height + 3) / 4) * (size_t)((g->out_width + 3) / 4);
    return g->kernel[0] == 3 && g->kernel[1] == 3 && g->stride[0] == 1 && g->stride[1] == 1
        && g->dilation[0] == 1 && g->dilation[1] == 1 && g->groups == 1
        && g->channels % 16 == 0 && g->outputs % 16 == 0 && g->p >= 8 * tiles;
}

/* Numbers that a tile takes, transformed, before and after the products. */
static size_t ft__winograd_numbers(const ft__conv *g)
{
    return FT__TILE_INPUTS * (size_t)(g->channels + g->outputs);
}

static bool ft__winograd_local(const ft__conv *g)
{
    return (size_t)g->channels * (size_t)g->outputs <= FT__WINOGRAD_LARGE;
}

/* Tiles of the output, in all pictures. */
static size_t ft__winograd_tile_count(const ft__conv *g)
{
    return g->batch * (size_t)((g->out_height + 3) / 4) * (size_t)((g->out_width + 3) / 4);
}

/* Tiles of a chunk: a multiple of 8, at least. */
static size_t ft__winograd_chunk(const ft__conv *g, bool local)
{
    size_t chunk = (local ? FT__WINOGRAD_LOCAL : FT__WINOGRAD_SHARED) / ft__winograd_numbers(g);
    size_t tiles = ft__pad_to(ft__winograd_tile_count(g), 8);
    if (chunk > tiles) chunk = tiles;
    return chunk < 16 ? 8 : chunk / 8 * 8;
}

/* One direction: a convolution of `from` [pictures, height, width, channels] to `to` [pictures,
   out_height, out_width, outputs]. */
typedef struct ft__winograd {
    ft__context *context;
    const float *from;
    float *to;
    int height, width, out_height, out_width, top, left;
    size_t channels, outputs;
    size_t across, in_picture, tiles; /* tiles in a line, in a picture, in all */
    size_t chunk, first, count;       /* tiles that are worked on */
    const float *zeros, *bias;
    const float *packed;              /* transformed weights: [panel][36][channels][width] */
    float *v, *m;                     /* transformed: [36][chunk][channels], [36][chunk][outputs] */
    bool accumulate;
} ft__winograd;

static void ft__winograd_tiles(ft__winograd *w, size_t pictures)
{
    w->across = (size_t)((w->out_width + 3) / 4);
    w->in_picture = w->across * (size_t)((w->out_height + 3) / 4);
    w->tiles = pictures * w->in_picture;
}

/* The pixels of a square of size x size that starts at (y, x) of a picture [height, width, pixel]:
   `outside` for those beyond its edges. */
static void ft__winograd_square(const float *picture, int height, int width, size_t pixel, int y,
                                int x, int size, const float *outside, const float **at)
{
    int i, j;
    for (i = y; i < y + size; ++i)
        for (j = x; j < x + size; ++j)
            *at++ = i < 0 || i >= height || j < 0 || j >= width ? outside
                : picture + ((size_t)i * (size_t)width + (size_t)j) * pixel;
}

/* Where tile `index` starts in the result: picture, line and column. */
static void ft__winograd_place(const ft__winograd *w, size_t index, size_t *picture, int *y, int *x)
{
    *picture = index / w->in_picture;
    *y = (int)(index % w->in_picture / w->across) * 4;
    *x = (int)(index % w->in_picture % w->across) * 4;
}

/* Transforms inputs of the tiles [first, first + count) into v, from its row `row` on. */
static void ft__winograd_inputs(const ft__winograd *w, size_t first, size_t count, float *v,
                                size_t row, size_t rows)
{
    ft__winograd_tile t;
    size_t i, picture;
    int y, x, n;
    memset(&t, 0, sizeof t);
    t.channels = w->channels;
    for (i = 0; i < count; ++i) {
        ft__winograd_place(w, first + i, &picture, &y, &x);
        ft__winograd_square(w->from + picture * (size_t)w->height * (size_t)w->width * w->channels,
                            w->height, w->width, w->channels, y - w->top, x - w->left, 6, w->zeros,
                            t.from);
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            t.to[n] = v + ((size_t)n * rows + row + i) * w->channels;
        ft__winograds[w->context->simd].input(&t);
    }
}

/* One panel of the columns; all are as wide as a tile of a matrix, but the last may be half. */
typedef struct ft__winograd_panel { size_t column, columns, width; } ft__winograd_panel;

static ft__winograd_panel ft__winograd_panel_of(const ft__winograd *w, size_t panel)
{
    const ft__tile_row *tile = &ft__tiles[w->context->simd];
    ft__winograd_panel p;
    p.column = panel * tile->columns;
    p.width = ft__panel_width(tile, w->outputs, p.column);
    p.columns = w->outputs - p.column < p.width ? w->outputs - p.column : p.width;
    return p;
}

/* m = or += v times weights, for all 36 of a panel, summed over `k` channels from `from` on.
   `packed`: [36][k][width]. */
static void ft__winograd_products(const ft__winograd *w, const float *v, float *m,
                                  ft__winograd_panel p, size_t from, size_t k, const float *packed,
                                  size_t count, size_t rows)
{
    const ft__tile_row *tile = &ft__tiles[w->context->simd];
    const float *table[FT__TILE_ROWS * 8];
    size_t most = tile->rows * 8, at, i, n;
    for (n = 0; n < FT__TILE_INPUTS; ++n, packed += k * p.width)
        for (at = 0; at < count; at += most) {
            size_t some = count - at < most ? count - at : most;
            for (i = 0; i < ft__pad_to(some, tile->rows); ++i)
                table[i] = v + (n * rows + at + (i < some ? i : some - 1)) * w->channels + from;
            for (i = 0; i < some; i += tile->rows)
                ft__gemm_tile(tile, some - i, p.columns, 1, k, table + i, 1, packed, p.width,
                              m + (n * rows + at + i) * w->outputs + p.column, w->outputs,
                              from > 0);
        }
}

/* Transforms back what lies in m from `row` on, into the pixels of the result. */
static void ft__winograd_outputs(const ft__winograd *w, size_t first, size_t count, const float *m,
                                 size_t row, size_t rows)
{
    ft__winograd_tile t;
    size_t i, picture, area = (size_t)w->out_height * (size_t)w->out_width;
    int y, x, n;
    memset(&t, 0, sizeof t);
    t.channels = w->outputs;
    t.add = w->bias;
    t.accumulate = w->accumulate;
    for (i = 0; i < count; ++i) {
        ft__winograd_place(w, first + i, &picture, &y, &x);
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            t.from[n] = m + ((size_t)n * rows + row + i) * w->outputs;
        ft__winograd_square(w->to + picture * area * w->outputs, w->out_height, w->out_width,
                            w->outputs, y, x, 4, NULL, (const float **)(void *)t.to);
        ft__winograds[w->context->simd].output(&t);
    }
}

/* =============================================================================================
   [SECTION] 6.5 Recurrent cells
   One step of one sequence: `x` holds what the input adds to each gate and `add` what the state
   before adds, [gates, h] each; activated gates stay in x, from which backward makes the gradients
   of the sums. Gates stand in PyTorch's order. Formulas: torch.nn.LSTM, GRU and RNN; LSTM is
   Hochreiter and Schmidhuber 1997 with forget gates, GRU Cho et al. 2014.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

typedef struct ft__cell {   /* pointers to one sequence's rows; h numbers each, gates [.., h] */
    size_t h;
    float *x, *add;
    float *extra;           /* LSTM: the new cell; GRU: the state's part of the new gate */
    const float *before;    /* the state before: LSTM the cell, GRU and RNN the hidden state */
    float *state, *y;       /* the new hidden state, and where else it goes */
    float *dh, *dc;         /* backward: in the gradient of the new state, out of the one before */
} ft__cell;

/* i, f, o = sigmoid, g = tanh; c' = f c + i g; h' = o tanh(c') */
FT__INLINE void ft__lstm_step_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT i = s->x, *FT__RESTRICT f = s->x + h, *FT__RESTRICT g = s->x + 2 * h;
    float *FT__RESTRICT o = s->x + 3 * h, *FT__RESTRICT c = s->extra, *FT__RESTRICT y = s->y;
    float *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT add = s->add, *FT__RESTRICT before = s->before;
    for (j = 0; j < h; ++j) {
        i[j] = ft__sigmoid(i[j] + add[j]);
        f[j] = ft__sigmoid(f[j] + add[h + j]);
        g[j] = ft__tanh(g[j] + add[2 * h + j]);
        o[j] = ft__sigmoid(o[j] + add[3 * h + j]);
        c[j] = f[j] * before[j] + i[j] * g[j];
        state[j] = y[j] = o[j] * ft__tanh(c[j]);
    }
}

FT__INLINE void ft__lstm_back_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT i = s->x, *FT__RESTRICT f = s->x + h, *FT__RESTRICT g = s->x + 2 * h;
    float *FT__RESTRICT o = s->x + 3 * h, *FT__RESTRICT dh = s->dh, *FT__RESTRICT dc = s->dc;
    const float *FT__RESTRICT c = s->extra, *FT__RESTRICT before = s->before;
    for (j = 0; j < h; ++j) {
        float t = ft__tanh(c[j]), d = dc[j] + dh[j] * o[j] * (1 - t * t);
        float di = d * g[j] * i[j] * (1 - i[j]), dg = d * i[j] * (1 - g[j] * g[j]);
        dc[j] = d * f[j];
        f[j] = d * before[j] * f[j] * (1 - f[j]);
        o[j] = dh[j] * t * o[j] * (1 - o[j]);
        i[j] = di;
        g[j] = dg;
        dh[j] = 0;
    }
}

/* r, z = sigmoid; n = tanh(x_n + r add_n); h' = (1 - z) n + z h */
FT__INLINE void ft__gru_step_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h;
    float *FT__RESTRICT extra = s->extra, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT add = s->add, *FT__RESTRICT before = s->before;
    for (j = 0; j < h; ++j) {
        r[j] = ft__sigmoid(r[j] + add[j]);
        z[j] = ft__sigmoid(z[j] + add[h + j]);
        extra[j] = add[2 * h + j];
        n[j] = ft__tanh(n[j] + r[j] * extra[j]);
        state[j] = y[j] = (1 - z[j]) * n[j] + z[j] * before[j];
    }
}

/* The state's side differs from the input's in the new gate: its three gradients go to `add`. */
FT__INLINE void ft__gru_back_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h;
    float *FT__RESTRICT extra = s->extra, *FT__RESTRICT add = s->add, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT before = s->before;
    for (j = 0; j < h; ++j) {
        float dn = dh[j] * (1 - z[j]) * (1 - n[j] * n[j]);
        float dz = dh[j] * (before[j] - n[j]) * z[j] * (1 - z[j]);
        float dr = dn * extra[j] * r[j] * (1 - r[j]);
        add[2 * h + j] = extra[j] = dn * r[j];
        dh[j] = dh[j] * z[j];
        add[j] = r[j] = dr;
        add[h + j] = z[j] = dz;
        n[j] = dn;
    }
}

/* h' = tanh(x + add) */
FT__INLINE void ft__rnn_step_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT add = s->add;
    for (j = 0; j < s->h; ++j) state[j] = y[j] = x[j] = ft__tanh(x[j] + add[j]);
}

FT__INLINE void ft__rnn_back_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT dh = s->dh;
    for (j = 0; j < s->h; ++j) {
        x[j] = dh[j] * (1 - x[j] * x[j]);
        dh[j] = 0;
    }
}

/* h' = relu(x + add) */
FT__INLINE void ft__rnn_relu_step_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT add = s->add;
    for (j = 0; j < s->h; ++j) {
        float sum = x[j] + add[j];
        state[j] = y[j] = x[j] = ft__choose(sum < 0, 0.0f, sum);
    }
}

FT__INLINE void ft__rnn_relu_back_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT dh = s->dh;
    for (j = 0; j < s->h; ++j) {
        x[j] = ft__choose(x[j] > 0, dh[j], 0.0f);
        dh[j] = 0;
    }
}

FT__LEVELS(ft__lstm_step, (const ft__cell *s), ft__lstm_step_body(s))
FT__LEVELS(ft__lstm_back, (const ft__cell *s), ft__lstm_back_body(s))
FT__LEVELS(ft__gru_step, (const ft__cell *s), ft__gru_step_body(s))
FT__LEVELS(ft__gru_back, (const ft__cell *s), ft__gru_back_body(s))
FT__LEVELS(ft__rnn_step, (const ft__cell *s), ft__rnn_step_body(s))
FT__LEVELS(ft__rnn_back, (const ft__cell *s), ft__rnn_back_body(s))
FT__LEVELS(ft__rnn_relu_step, (const ft__cell *s), ft__rnn_relu_step_body(s))
FT__LEVELS(ft__rnn_relu_back, (const ft__cell *s), ft__rnn_relu_back_body(s))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

/* =============================================================================================
   [SECTION] 7 Nodes and parameters
   A node is one tensor and the operator that makes it. Inputs, parameters, buffers and constants
   are nodes too: their operator computes nothing. Ids are positions in `nodes` plus one.
   ============================================================================================= */
/* How large a run is, or the largest that there is room for. */
typedef struct ft__extent { int batch, length; } ft__extent;

static const ft__extent ft__one = {1, 1};

typedef struct ft__tensor { /* what an operator sees of a node during a run */
    ft_shape shape;         /* with the run's batch and length filled in */
    bool channels_last;     /* [N, C, H, W] that lies in memory as [N, H, W, C] */
    ft_type type;
    float *value;
    float *gradient;        /* NULL: nobody needs it */
    bool fresh;             /* nothing is in the gradient yet: backward writes instead of adding */
} ft__tensor;

static int32_t *ft__integers(const ft__tensor *t) { return (int32_t *)(void *)t->value; }
static size_t ft__count(const ft__tensor *t) { return ft__shape_count(&t->shape); }

typedef struct ft__reshape_options { int rank; int size[FINETUNE_MAX_RANK]; } ft__reshape_options;
typedef struct ft__concat_options { int axis; } ft__concat_options; /* and gather's */
typedef struct ft__permute_options { int axes[FINETUNE_MAX_RANK]; } ft__permute_options;

typedef struct ft__recurrent_options { /* of one layer */
    int hidden;
    bool bidirectional, no_bias, relu;
    bool lengths, initial;  /* such inputs are there */
    bool carry;             /* the initial state is the model's: it is replaced by the last one */
} ft__recurrent_options;

typedef union ft__options { /* by operator; which fields a file keeps, the table's row says */
    ft_conv2d_options conv2d;
    ft_batch_norm_options batch_norm;
    ft_pool2d_options pool2d;
    ft_dropout_options dropout;
    ft_activation_options activation;
    ft_pad_options pad;
    ft_slice_options slice;
    ft__reshape_options reshape;
    ft__concat_options concat;
    ft__permute_options permute;
    ft_matmul_options matmul;
    ft_layer_norm_options layer_norm;
    ft_loss_options loss;
    ft_embedding_options embedding;
    ft_step_pool_options step_pool;
    ft__recurrent_options recurrent;
} ft__options;

typedef struct ft__node {
    int op;                 /* FT__OP_conv2d, ... */
    char *name;
    ft_type type;
    ft_shape shape;         /* FT_BATCH and FT_LENGTH where those go */
    int *inputs;            /* ids */
    int input_count;
    ft__options options;
    bool frozen;            /* parameters, buffers, and dropout */
    float *value;           /* of parameters and buffers, and of inputs: what was fed */
    ft__extent capacity;    /* inputs: how many samples and steps fit */
    /* Parameters and buffers only: */
    bool loaded;            /* its weights came from a file */
    ft_initialiser initialiser;
    int fan_in, fan_out;
    float learning_rate_factor, weight_decay; /* weight_decay < 0: the optimiser's */
    float *gradient, *moment1, *moment2;      /* while it is trained; else NULL */
    float *kept;            /* a copy of the value at the best, or last good, epoch of a fit */
    ft_time time;           /* spent in its operator so far */
} ft__node;

/* One call of an operator's function. */
typedef struct ft__call {
    ft__context *context;
    const ft__node *node;
    const ft__tensor *input;
    int input_count;
    ft__tensor output;
    void *saved;            /* kept from forward for backward: as many bytes as the row says */
    float *workspace;       /* scratch: as many bytes as the row says */
    float *prepared;        /* weights in the form that forward wants them, kept from call to call:
                               as many bytes as the row says; NULL: they change in each step */
    bool prepare;           /* they are to be made anew */
    bool training;          /* batch statistics, dropout on */
    uint64_t random;        /* key for this node in this step */
    int fused;              /* an activation's operator to apply to the output, or FT__OP_none */
    const ft__options *fused_options;
} ft__call;

/* A field of an operator's options, for files: kind 'i' int, 'f' float, 'b' bool. */
typedef struct ft__field {
    const char *name;
    size_t offset;
    int count;
    char kind;
} ft__field;

typedef struct ft__plan ft__plan;           /* section 10 */
typedef struct ft__optimizer ft__optimizer; /* section 11 */

struct ft_model {
    ft__context context;    /* first: everything that can fail needs it */
    ft__node *nodes;
    int node_count, node_capacity;
    int *order;             /* ids in the order of execution */
    ft_node output, loss;
    ft_preprocessing preprocessing;
    char *architecture;     /* "" when it was built by hand */
    char *cache;            /* ft_desc.cache */
    char *training;         /* JSON: the settings of the last fit; NULL: none */
    char **class_names;
    int class_count;
    bool keras_initialisers;
    bool values_follow;     /* parameters that are made get their values from a file afterwards */
    uint64_t version;       /* counts changes of the graph or of what is frozen: plans are remade */
    uint64_t weights_version; /* counts changes of weights: folded copies are remade */
    uint64_t trained_version; /* counts those by training, of what is not frozen */
    uint64_t step;          /* training steps made so far: part of the keys of dropout */
    int batch;              /* samples fed for the next run */
    int length;             /* steps of its sequences */
    ft__plan *last_run;     /* the plan of the last run, whose values ft_get reads */
    ft__plan *plans[2];     /* evaluation, training */
    ft__optimizer *optimizer;
    ft_data *data;          /* list of the data sources it owns */
    ft_tokenizer *tokenizers; /* list of the tokenisers it owns */
    ft_tokenizer *tokenizer;  /* of its texts, one of the list; NULL: none */
    char *tokenizer_text;     /* JSON for the model file; NULL: none */
};

static ft__node *ft__get_node(const ft_model *m, ft_node node)
{
    return node.id > 0 && node.id <= m->node_count ? &m->nodes[node.id - 1] : NULL;
}

/* to [samples, columns, rows] = or += from [samples, rows, columns] */
typedef struct ft__turn_job {
    const float *from;
    float *to;
    size_t channels, plane, strips; /* strips of a picture's pixels, one an index */
    int direction;
    bool add;
} ft__turn_job;

enum { FT__TO_LAST = 0, FT__TO_FIRST = 1 };
#define FT__TURN_STRIP ((size_t)2048)

/* Channels [begin, begin + some) of pixels [first, end). */
FT__INLINE void ft__turn_some(const ft__turn_job *job, size_t sample, size_t first, size_t end,
                              size_t begin, size_t some)
{
    size_t at = sample * job->channels * job->plane + begin, p, c;
    for (p = first; p < end; ++p)
        for (c = 0; c < some; ++c) {
            size_t one = at + p * job->channels + c;
            size_t other = at - begin + (begin + c) * job->plane + p;
            const float *from = job->from + (job->direction == FT__TO_LAST ? other : one);
            float *to = job->to + (job->direction == FT__TO_LAST ? one : other);
            *to = job->add ? *to + *from : *from;
        }
}

static void ft__turn_strip(void *context, int index)
{
    const ft__turn_job *job = (const ft__turn_job *)context;
    size_t sample = (size_t)index / job->strips, begin;
    size_t first = (size_t)index % job->strips * FT__TURN_STRIP, end = first + FT__TURN_STRIP;
    if (end > job->plane) end = job->plane;
    if (job->channels == 3 && job->direction == FT__TO_LAST && !job->add) {
        float *to = job->to + (sample * job->plane + first) * 3;
        const float *from = job->from + sample * job->plane * 3 + first;
        for (; first < end; ++first, ++from, to += 3) { /* photos */
            to[0] = from[0];
            to[1] = from[job->plane];
            to[2] = from[2 * job->plane];
        }
        return;
    }
    for (begin = 0; begin < job->channels; begin += 16) /* lines that stay in the cache */
        ft__turn_some(job, sample, first, end, begin,
                      job->channels - begin < 16 ? job->channels - begin : 16);
}

/* Between [N, C, H, W] in that order and channels last. */
static void ft__turn(ft__context *c, const ft_shape *shape, int direction, const float *from,
                     float *to, bool add)
{
    ft__turn_job job;
    job.from = from;
    job.to = to;
    job.channels = (size_t)shape->size[1];
    job.plane = (size_t)shape->size[2] * (size_t)shape->size[3];
    job.strips = (job.plane + FT__TURN_STRIP - 1) / FT__TURN_STRIP;
    job.direction = direction;
    job.add = add;
    ft__parallel(c, shape->size[0] * (int)job.strips, ft__turn_strip, &job);
}

static ft_status ft__set_architecture(ft_model *m, const char *name)
{
    char *copy = ft__copy_text(&m->context, name);
    if (!copy) return m->context.status;
    ft__release(&m->context, m->architecture);
    m->architecture = copy;
    return FT_OK;
}

/* =============================================================================================
   [SECTION] 7.1 Initialisers
   The values of a parameter are a function of (seed, its name, index): they depend neither on the
   order in which a network is built nor on what else it has.
   ============================================================================================= */

/* A normal variate by Marsaglia's polar method: pairs of uniforms until one falls into the unit
   circle. Each index has 32 tries of its own; that all fail happens once in 10^21. */
static float ft__normal(uint64_t key, uint64_t index)
{
    int try_number;
    for (try_number = 0; try_number < 32; ++try_number) {
        uint64_t at = (index * 32 + (uint64_t)try_number) * 2;
        float u = 2 * ft__uniform(key, at) - 1, v = 2 * ft__uniform(key, at + 1) - 1;
        float s = u * u + v * v;
        if (s > 0 && s < 1) return u * sqrtf(-2 * ft__ln(s) / s);
    }
    return 0;
}

static void ft__fans(const ft__node *node, float *in, float *out)
{
    float area = 1;
    int d;
    for (d = 2; d < node->shape.rank; ++d) area *= (float)node->shape.size[d];
    *in = node->fan_in ? (float)node->fan_in
        : (float)node->shape.size[node->shape.rank > 1 ? 1 : 0] * area;
    *out = node->fan_out ? (float)node->fan_out : (float)node->shape.size[0] * area;
}

/* PyTorch draws weights and biases from U(-b, b), b = 1 / sqrt(fan_in), which is kaiming_uniform
   with a = sqrt(5); Keras weights by Glorot and Bengio 2010, biases zero. */
static ft_initialiser ft__initialiser_of(const ft_model *m, const ft__node *node)
{
    if (node->initialiser != FT_INIT_DEFAULT) return node->initialiser;
    if (!m->keras_initialisers) return FT_INIT_KAIMING_UNIFORM;
    return node->shape.rank < 2 ? FT_INIT_ZEROS : FT_INIT_XAVIER_UNIFORM;
}

static void ft__initialise_node(ft_model *m, ft__node *node)
{
    size_t count = ft__shape_count(&node->shape), i;
    uint64_t name = ft__hash_bytes(0, node->name, strlen(node->name));
    uint64_t key = ft__key(m->context.desc.seed, name, 0, FT__USE_INITIALISE);
    ft_initialiser how = ft__initialiser_of(m, node);
    float in, out, bound;
    ft__fans(node, &in, &out);
    bound = how == FT_INIT_KAIMING_UNIFORM ? 1 / sqrtf(in)
        : how == FT_INIT_XAVIER_UNIFORM ? sqrtf(6 / (in + out)) : sqrtf(2 / out);
    for (i = 0; node->value && i < count; ++i) {
        if (how == FT_INIT_ZEROS || how == FT_INIT_ONES)
            node->value[i] = how == FT_INIT_ONES ? 1.0f : 0.0f;
        else if (how == FT_INIT_KAIMING_NORMAL) node->value[i] = bound * ft__normal(key, i);
        else node->value[i] = bound * (2 * ft__uniform(key, i) - 1);
    }
}

/* =============================================================================================
   [SECTION] 8.0 The table of operators
   The only list of them. A row: name; inputs, at least and at most; what backward reads of them
   (X inputs, Y output) and what else it can do; and the functions:
       shape      checks the inputs and gives the output's shape
       forward    computes output.value from input[i].value
       backward   adds to input[i].gradient where that is not NULL; rows with FT__WRITES also
                  honour input[i].fresh
       costs      bytes to keep from forward to backward, bytes of scratch, bytes of prepared
                  weights, multiply-adds
       fields     which of the options a model file keeps
   ============================================================================================= */
typedef struct ft__costs { size_t saved, workspace, prepared; uint64_t multiply_adds; } ft__costs;

/* FUSES: forward applies call->fused to what it writes. IN_PLACE: the first input's gradient may
   lie where the output's does. MASKS: backward knows from x where a fused relu or relu6 was flat,
   so that the output need not be kept. */
enum {
    FT__READS_X = 1, FT__READS_Y = 2, FT__WRITES = 4, FT__FUSES = 8, FT__IN_PLACE = 16,
    FT__MASKS = 32,
    FT__OF_X = FT__READS_X | FT__WRITES | FT__IN_PLACE, /* activations, by what their slope is of */
    FT__OF_Y = FT__READS_Y | FT__WRITES | FT__IN_PLACE,
    FT__LAYER = FT__READS_X | FT__WRITES | FT__FUSES    /* layers that apply activations */
};

/* X(name, inputs at least, at most, backward reads, shape, forward, backward, costs, fields,
   OpenCL entry: ft__cl_ENTRY_forward and _backward of section 9; none) */
#define FT__OPERATORS(X)                                                                          \
    X(none, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                 \
    X(input, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                \
    X(parameter, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                            \
    X(buffer, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                               \
    X(state, 0, 0, 0, NULL, NULL, NULL, NULL, ft__no_fields, none)                                \
    X(sigmoid, 1, 1, FT__OF_Y, ft__same_shape, ft__sigmoid_forward, ft__sigmoid_backward, NULL,   \
      ft__no_fields, activation)                                                                  \
    X(tanh, 1, 1, FT__OF_Y, ft__same_shape, ft__tanh_forward, ft__tanh_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(relu, 1, 1, FT__OF_Y, ft__same_shape, ft__relu_forward, ft__relu_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(relu6, 1, 1, FT__OF_Y, ft__same_shape, ft__relu6_forward, ft__relu6_backward, NULL,         \
      ft__no_fields, activation)                                                                  \
    X(leaky_relu, 1, 1, FT__OF_X, ft__same_shape, ft__leaky_relu_forward,                         \
      ft__leaky_relu_backward, NULL, ft__activation_fields, activation)                           \
    X(elu, 1, 1, FT__OF_X, ft__same_shape, ft__elu_forward, ft__elu_backward, NULL,               \
      ft__activation_fields, activation)                                                          \
    X(softplus, 1, 1, FT__OF_X, ft__same_shape, ft__softplus_forward, ft__softplus_backward,      \
      NULL, ft__no_fields, activation)                                                            \
    X(softsign, 1, 1, FT__OF_X, ft__same_shape, ft__softsign_forward, ft__softsign_backward,      \
      NULL, ft__no_fields, activation)                                                            \
    X(gelu, 1, 1, FT__OF_X, ft__same_shape, ft__gelu_forward, ft__gelu_backward, NULL,            \
      ft__activation_fields, activation)                                                          \
    X(silu, 1, 1, FT__OF_X, ft__same_shape, ft__silu_forward, ft__silu_backward, NULL,            \
      ft__no_fields, activation)                                                                  \
    X(softmax, 1, 1, FT__READS_Y, ft__softmax_shape, ft__softmax_forward, ft__softmax_backward,   \
      NULL, ft__activation_fields, softmax)                                                       \
    X(log_softmax, 1, 1, FT__READS_Y, ft__softmax_shape, ft__log_softmax_forward,                 \
      ft__log_softmax_backward, NULL, ft__activation_fields, log_softmax)                         \
    X(linear, 2, 3, FT__LAYER, ft__linear_shape, ft__linear_forward, ft__linear_backward,         \
      ft__linear_costs, ft__no_fields, linear)                                                    \
    X(conv2d, 2, 3, FT__LAYER, ft__conv2d_shape, ft__conv2d_forward, ft__conv2d_backward,         \
      ft__conv2d_costs, ft__conv2d_fields, conv2d)                                                \
    X(conv1d, 2, 3, FT__LAYER, ft__conv1d_shape, ft__conv1d_forward, ft__conv1d_backward,         \
      ft__conv1d_costs, ft__conv2d_fields, none)                                                  \
    X(batch_norm, 5, 5, FT__LAYER | FT__IN_PLACE | FT__MASKS, ft__batch_norm_shape,               \
      ft__batch_norm_forward, ft__batch_norm_backward, ft__batch_norm_costs,                      \
      ft__batch_norm_fields, batch_norm)                                                          \
    X(layer_norm, 3, 3, FT__READS_X | FT__WRITES, ft__layer_norm_shape, ft__layer_norm_forward,   \
      ft__layer_norm_backward, ft__layer_norm_costs, ft__layer_norm_fields, none)                 \
    X(max_pool2d, 1, 1, 0, ft__pool2d_shape, ft__max_pool2d_forward, ft__max_pool2d_backward,     \
      ft__max_pool2d_costs, ft__pool2d_fields, max_pool)                                          \
    X(avg_pool2d, 1, 1, 0, ft__pool2d_shape, ft__avg_pool2d_forward, ft__avg_pool2d_backward,     \
      NULL, ft__pool2d_fields, avg_pool)                                                          \
    X(global_avg_pool, 1, 1, FT__WRITES, ft__global_pool_shape, ft__global_avg_pool_forward,      \
      ft__global_avg_pool_backward, NULL, ft__no_fields, avg_pool)                                \
    X(global_max_pool, 1, 1, 0, ft__global_pool_shape, ft__global_max_pool_forward,               \
      ft__global_max_pool_backward, ft__global_max_pool_costs, ft__no_fields, max_pool)           \
    X(flatten, 1, 1, 0, ft__flatten_shape, ft__copy_forward, ft__copy_backward, NULL,             \
      ft__no_fields, reshape)                                                                     \
    X(reshape, 1, 1, 0, ft__reshape_shape, ft__copy_forward, ft__copy_backward, NULL,             \
      ft__reshape_fields, reshape)                                                                \
    X(add, 2, 2, FT__WRITES | FT__FUSES | FT__IN_PLACE, ft__broadcast_shape, ft__add_forward,     \
      ft__add_backward, NULL, ft__no_fields, broadcast)                                           \
    X(mul, 2, 2, FT__LAYER, ft__broadcast_shape, ft__mul_forward, ft__mul_backward, NULL,         \
      ft__no_fields, broadcast)                                                                   \
    X(concat, 1, INT_MAX, 0, ft__concat_shape, ft__concat_forward, ft__concat_backward, NULL,     \
      ft__concat_fields, concat)                                                                  \
    X(pad, 1, 1, 0, ft__pad_shape, ft__pad_forward, ft__pad_backward, NULL, ft__pad_fields,       \
      pad)                                                                                        \
    X(slice, 1, 1, 0, ft__slice_shape, ft__slice_forward, ft__slice_backward, NULL,               \
      ft__slice_fields, slice)                                                                    \
    X(permute, 1, 1, FT__WRITES, ft__permute_shape, ft__permute_forward, ft__permute_backward,    \
      NULL, ft__permute_fields, none)                                                             \
    X(gather, 2, 2, 0, ft__gather_shape, ft__gather_along_forward, ft__gather_along_backward,     \
      NULL, ft__gather_fields, none)                                                              \
    X(matmul, 2, 2, FT__READS_X | FT__WRITES, ft__matmul_shape, ft__matmul_forward,               \
      ft__matmul_backward, ft__matmul_costs, ft__matmul_fields, none)                             \
    X(dropout, 1, 1, 0, ft__same_shape, ft__dropout_forward, ft__dropout_backward, NULL,          \
      ft__dropout_fields, dropout)                                                                \
    X(embedding, 2, 2, FT__READS_X, ft__embedding_shape, ft__embedding_forward,                   \
      ft__embedding_backward, NULL, ft__embedding_fields, none)                                   \
    X(step_pool, 1, 2, FT__READS_X, ft__step_pool_shape, ft__step_pool_forward,                   \
      ft__step_pool_backward, ft__step_pool_costs, ft__step_pool_fields, none)                    \
    X(lstm, 3, 12, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                       \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, none)                    \
    X(gru, 3, 11, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                        \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, none)                    \
    X(rnn, 3, 11, FT__READS_X, ft__recurrent_shape, ft__recurrent_forward,                        \
      ft__recurrent_backward, ft__recurrent_costs, ft__recurrent_fields, none)                    \
    X(cross_entropy, 2, 2, FT__READS_X, ft__cross_entropy_shape, ft__cross_entropy_forward,       \
      ft__cross_entropy_backward, ft__cross_entropy_costs, ft__loss_fields, entropy)              \
    X(soft_cross_entropy, 2, 2, FT__READS_X, ft__soft_cross_entropy_shape,                        \
      ft__soft_cross_entropy_forward, ft__soft_cross_entropy_backward,                            \
      ft__soft_cross_entropy_costs, ft__no_fields, entropy)                                       \
    X(binary_cross_entropy, 2, 2, FT__READS_X, ft__pair_loss_shape,                               \
      ft__binary_cross_entropy_forward, ft__binary_cross_entropy_backward, NULL, ft__no_fields,   \
      pair_loss)                                                                                  \
    X(mse, 2, 2, FT__READS_X, ft__pair_loss_shape, ft__mse_forward, ft__mse_backward, NULL,       \
      ft__no_fields, pair_loss)

#define FT__OP_ENUM(name, low, high, reads, shape, forward, backward, costs, fields, device)      \
    FT__OP_##name,
enum { FT__OPERATORS(FT__OP_ENUM) FT__OP_COUNT };

/* A shape rule gives the output's shape, with FT_BATCH where the inputs have it, or fails with a
   line that names the node. */
typedef ft_status (*ft__shape_rule)(ft__context *c, const ft__node *node, const ft__tensor *input,
                                    int input_count, ft_shape *output);
typedef void (*ft__operator)(const ft__call *call);
typedef void (*ft__cost_rule)(const ft__call *call, ft__costs *costs);

typedef struct ft__row {
    const char *name;
    int least_inputs, most_inputs, reads;
    ft__shape_rule shape;
    ft__operator forward, backward;
    ft__cost_rule costs;        /* NULL: it keeps nothing and needs no scratch */
    const ft__field *fields;    /* ends with a NULL name */
} ft__row;

/* For the operators' functions: value pointers of input i, and a line about a wrong shape. */
static FT__UNUSED const float *ft__x(const ft__call *call, int i) { return call->input[i].value; }

static const ft__field ft__no_fields[] = {{NULL, 0, 0, 0}};

/* =============================================================================================
   [SECTION] 8.1 Activations
   One function and one derivative each; a macro makes the loops. Derivatives are written in terms
   of the output y where that is possible, so that x need not be kept.
   ============================================================================================= */
static const ft__field ft__activation_fields[] = {
    {"slope", offsetof(ft_activation_options, slope), 1, 'f'},
    {"alpha", offsetof(ft_activation_options, alpha), 1, 'f'},
    {"axis", offsetof(ft_activation_options, axis), 1, 'i'},
    {"tanh_approximation", offsetof(ft_activation_options, tanh_approximation), 1, 'b'},
    {NULL, 0, 0, 0}};
static const ft__field ft__dropout_fields[] = {
    {"probability", offsetof(ft_dropout_options, probability), 1, 'f'},
    {"locked", offsetof(ft_dropout_options, locked), 1, 'b'}, {NULL, 0, 0, 0}};

/* Also flags "this input is not of numbers": labels cannot be computed with. */
static ft_status ft__want_numbers(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int count)
{
    int i;
    for (i = 0; i < count; ++i)
        if (input[i].type != FT_F32)
            return ft__fail(c, FT_SHAPE, "%s: input %d holds %s, not F32", node->name, i + 1,
                            ft__type_names[input[i].type]);
    return FT_OK;
}

static ft_status ft__same_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                int input_count, ft_shape *output)
{
    float p = node->options.dropout.probability;
    *output = input[0].shape;
    if (node->op == FT__OP_dropout && node->options.dropout.locked
        && (output->rank < 2 || output->rank > 3))
        return ft__fail(c, FT_SHAPE, "%s: locked dropout wants [N, L, C] or a weight [V, E]",
                        node->name);
    if (node->op == FT__OP_dropout && !(p >= 0 && p <= 1))
        return ft__fail(c, FT_INVALID, "%s: a probability of %g, wants 0 to 1", node->name,
                        (double)p);
    return ft__want_numbers(c, node, input, input_count);
}

#define FT__CHUNK ((size_t)1 << 14) /* elements that one index of a parallel loop takes */

static int ft__chunks(size_t count) { return (int)((count + FT__CHUNK - 1) / FT__CHUNK); }

/* Loops run over so many numbers at a time, copied aside: compilers make vector code of loops of a
   known length over memory that cannot overlap, even with -O2. What is left at the end goes the
   same way, so that a number's bits do not depend on its place. */
#define FT__LANES 32

FT__INLINE void ft__load_lanes(float *lanes, const float *from, size_t count)
{
    if (count >= FT__LANES) memcpy(lanes, from, FT__LANES * sizeof *lanes);
    else {
        memset(lanes, 0, FT__LANES * sizeof *lanes);
        memcpy(lanes, from, count * sizeof *lanes);
    }
}

FT__INLINE void ft__store_lanes(float *to, const float *lanes, size_t count)
{
    if (count >= FT__LANES) memcpy(to, lanes, FT__LANES * sizeof *lanes);
    else memcpy(to, lanes, count * sizeof *lanes);
}

/* to = F(from), and dx = or += dy * D(at), where `at` is x or y; from and to, dy and dx may be the
   same. */
typedef void (*ft__activation_values)(const ft_activation_options *o, const float *from, float *to,
                                      size_t count);
typedef void (*ft__activation_slopes)(const ft_activation_options *o, const float *at,
                                      const float *dy, float *dx, size_t count, bool add);

typedef struct ft__activation_run {
    const ft__call *call;
    ft__activation_values values;
    ft__activation_slopes slopes; /* NULL: forward */
    const float *at;
} ft__activation_run;

static void ft__activation_chunk(void *context, int index)
{
    const ft__activation_run *run = (const ft__activation_run *)context;
    const ft__call *call = run->call;
    const ft_activation_options *o = &call->node->options.activation;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    if (count > FT__CHUNK) count = FT__CHUNK;
    if (!run->slopes)
        run->values(o, call->input[0].value + at, call->output.value + at, count);
    else
        run->slopes(o, run->at + at, call->output.gradient + at, call->input[0].gradient + at,
                    count, !call->input[0].fresh);
}

static void ft__activation_forward(const ft__call *call, ft__activation_values values)
{
    ft__activation_run run;
    run.call = call;
    run.values = values;
    run.slopes = NULL;
    run.at = NULL;
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_chunk, &run);
}

static void ft__activation_backward(const ft__call *call, ft__activation_slopes slopes, int reads)
{
    ft__activation_run run;
    if (!call->input[0].gradient) return;
    run.call = call;
    run.values = NULL;
    run.slopes = slopes;
    run.at = reads == FT__READS_X ? call->input[0].value : call->output.value;
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_chunk, &run);
}

/* Makes NAME_values and NAME_slopes from two expressions: F of x, and D, dy/dx, of x or y (the same
   variable twice: the table's row says which one is kept). `a` is the option that some have. */
#define FT__ACTIVATION_LOOPS(name, option, F, D)                                                  \
    static void ft__##name##_values(const ft_activation_options *o, const float *from, float *to, \
                                    size_t count)                                                 \
    {                                                                                             \
        float a = option, lanes[FT__LANES], out[FT__LANES];                                       \
        size_t at;                                                                                \
        int i;                                                                                    \
        (void)o;                                                                                  \
        (void)a;                                                                                  \
        for (at = 0; at < count; at += FT__LANES) {                                               \
            ft__load_lanes(lanes, from + at, count - at);                                         \
            for (i = 0; i < FT__LANES; ++i) {                                                     \
                float x = lanes[i];                                                               \
                out[i] = F;                                                                       \
            }                                                                                     \
            ft__store_lanes(to + at, out, count - at);                                            \
        }                                                                                         \
    }                                                                                             \
    static void ft__##name##_slopes(const ft_activation_options *o, const float *kept,            \
                                    const float *dy, float *dx, size_t count, bool add)           \
    {                                                                                             \
        float a = option, lanes[FT__LANES], slope[FT__LANES], sum[FT__LANES] = {0};               \
        size_t at;                                                                                \
        int i;                                                                                    \
        (void)o;                                                                                  \
        (void)a;                                                                                  \
        for (at = 0; at < count; at += FT__LANES) {                                               \
            ft__load_lanes(lanes, kept + at, count - at);                                         \
            ft__load_lanes(slope, dy + at, count - at);                                           \
            if (add) ft__load_lanes(sum, dx + at, count - at);                                    \
            for (i = 0; i < FT__LANES; ++i) {                                                     \
                float x = lanes[i], y = x;                                                        \
                (void)y;                                                                          \
                sum[i] = (add ? sum[i] : 0) + slope[i] * (D);                                     \
            }                                                                                     \
            ft__store_lanes(dx + at, sum, count - at);                                            \
        }                                                                                         \
    }

#define FT__ACTIVATION(name, reads)                                                               \
    static void ft__##name##_forward(const ft__call *call)                                        \
    {                                                                                             \
        ft__activation_forward(call, ft__##name##_values);                                        \
    }                                                                                             \
    static void ft__##name##_backward(const ft__call *call)                                       \
    {                                                                                             \
        ft__activation_backward(call, ft__##name##_slopes, reads);                                \
    }

/* GELU (Hendrycks and Gimpel 2016): x * Phi(x), Phi the normal distribution's; or the paper's
   approximation by tanh(sqrt(2/pi) (x + 0.044715 x^3)). The derivatives by the product rule; what
   belongs to the bell curve in them is 0 beyond 20, and would be inf * 0 for a huge x. */
FT__INLINE float ft__gelu_tanh(float x)
{
    return ft__tanh(0.797884561f * (x + 0.044715f * x * x * x));
}

FT__INLINE float ft__gelu_erf_slope(float x)
{
    float bound = ft__choose(ft__absolute(x) > 20.0f, 20.0f, x);
    return 0.5f * (1.0f + ft__erf(0.707106781f * x))
        + bound * 0.398942280f * ft__exp(-0.5f * bound * bound);
}

FT__INLINE float ft__gelu_tanh_slope(float x)
{
    float t = ft__gelu_tanh(x), bound = ft__choose(ft__absolute(x) > 20.0f, 20.0f, x);
    return 0.5f * (1.0f + t)
        + 0.5f * bound * (1.0f - t * t) * 0.797884561f * (1.0f + 0.134145f * bound * bound);
}

FT__INLINE float ft__silu_slope(float x)
{
    float s = ft__sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

FT__INLINE float ft__softsign_slope(float x)
{
    float s = 1.0f + ft__absolute(x);
    return 1.0f / (s * s);
}

FT__ACTIVATION_LOOPS(sigmoid, 0, ft__sigmoid(x), y * (1.0f - y))
FT__ACTIVATION_LOOPS(tanh, 0, ft__tanh(x), 1.0f - y * y)
FT__ACTIVATION_LOOPS(relu, 0, ft__choose(x < 0, 0.0f, x), ft__choose(y <= 0, 0.0f, 1.0f))
FT__ACTIVATION_LOOPS(relu6, 0, ft__choose(x > 6, 6.0f, ft__choose(x < 0, 0.0f, x)),
                     ft__choose(y <= 0, 0.0f, ft__choose(y >= 6, 0.0f, 1.0f)))
FT__ACTIVATION_LOOPS(leaky_relu, o->slope != 0 ? o->slope : 0.01f, ft__choose(x > 0, x, a * x),
                     ft__choose(x > 0, 1.0f, a))
FT__ACTIVATION_LOOPS(elu, o->alpha != 0 ? o->alpha : 1.0f, ft__choose(x > 0, x, a * ft__expm1(x)),
                     ft__choose(x > 0, 1.0f, a * ft__exp(x)))
FT__ACTIVATION_LOOPS(softplus, 0, ft__softplus(x), ft__sigmoid(x))
FT__ACTIVATION_LOOPS(softsign, 0, x / (1.0f + ft__absolute(x)), ft__softsign_slope(x))
FT__ACTIVATION_LOOPS(gelu_erf, 0, 0.5f * x * (1.0f + ft__erf(0.707106781f * x)),
                     ft__gelu_erf_slope(x))
FT__ACTIVATION_LOOPS(gelu_tanh, 0, 0.5f * x * (1.0f + ft__gelu_tanh(x)), ft__gelu_tanh_slope(x))
FT__ACTIVATION_LOOPS(silu, 0, x * ft__sigmoid(x), ft__silu_slope(x))

static void ft__gelu_values(const ft_activation_options *o, const float *from, float *to,
                            size_t count)
{
    if (o->tanh_approximation) ft__gelu_tanh_values(o, from, to, count);
    else ft__gelu_erf_values(o, from, to, count);
}

static void ft__gelu_slopes(const ft_activation_options *o, const float *kept, const float *dy,
                            float *dx, size_t count, bool add)
{
    if (o->tanh_approximation) ft__gelu_tanh_slopes(o, kept, dy, dx, count, add);
    else ft__gelu_erf_slopes(o, kept, dy, dx, count, add);
}

FT__ACTIVATION(sigmoid, FT__READS_Y)
FT__ACTIVATION(tanh, FT__READS_Y)
FT__ACTIVATION(relu, FT__READS_Y)
FT__ACTIVATION(relu6, FT__READS_Y)
FT__ACTIVATION(leaky_relu, FT__READS_X)
FT__ACTIVATION(elu, FT__READS_X)
FT__ACTIVATION(softplus, FT__READS_X)
FT__ACTIVATION(softsign, FT__READS_X)
FT__ACTIVATION(gelu, FT__READS_X)
FT__ACTIVATION(silu, FT__READS_X)

/* The activations that a convolution or linear layer applies to its own output. */
static bool ft__can_fuse(int op) { return op >= FT__OP_sigmoid && op <= FT__OP_silu; }

static void ft__activate(int op, const ft__options *options, float *values, size_t count)
{
    const ft_activation_options *o = &options->activation;
    switch (op) {
#define FT__ACTIVATE(name) case FT__OP_##name: ft__##name##_values(o, values, values, count); break;
    FT__ACTIVATE(sigmoid) FT__ACTIVATE(tanh) FT__ACTIVATE(relu) FT__ACTIVATE(relu6)
    FT__ACTIVATE(leaky_relu) FT__ACTIVATE(elu) FT__ACTIVATE(softplus) FT__ACTIVATE(softsign)
    FT__ACTIVATE(gelu) FT__ACTIVATE(silu)
    default: break;
    }
}

/* Whether it only keeps numbers within bounds, which kernels do while those are in registers. */
static bool ft__is_clamp(int op, float *low, float *high)
{
    *low = 0;
    *high = op == FT__OP_relu6 ? 6.0f : (float)HUGE_VAL;
    return op == FT__OP_relu || op == FT__OP_relu6;
}

/* Whether a layer that is trained may apply it: then only the output is kept. */
static bool ft__can_fuse_trained(int op) { return op >= FT__OP_sigmoid && op <= FT__OP_relu6; }

/* Backward of an activation that a layer applied: its output's gradient becomes that of what the
   activation got, in place. */
static void ft__activation_back_chunk(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft_activation_options *o = &call->fused_options->activation;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(&call->output) - at;
    const float *y = call->output.value + at;
    float *dy = call->output.gradient + at;
    if (count > FT__CHUNK) count = FT__CHUNK;
    switch (call->fused) {
    case FT__OP_sigmoid: ft__sigmoid_slopes(o, y, dy, dy, count, false); break;
    case FT__OP_tanh: ft__tanh_slopes(o, y, dy, dy, count, false); break;
    case FT__OP_relu: ft__relu_slopes(o, y, dy, dy, count, false); break;
    default: ft__relu6_slopes(o, y, dy, dy, count, false); break;
    }
}

static void ft__activation_back(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__activation_back_chunk,
                 (void *)(uintptr_t)call);
}

/* ---- Softmax over one axis: the tensor as [outer, axis, inner] ---- */
typedef struct ft__axis { size_t outer, size, inner; } ft__axis;

static int ft__axis_of(const ft__node *node, int rank)
{
    int axis = node->options.activation.axis;
    return axis == 0 ? rank - 1 : axis < 0 ? axis + rank : axis;
}

/* The sizes of a tensor in the order in which they lie in memory; where an axis stands there. */
static int ft__memory_axis(const ft__tensor *t, int axis)
{
    static const int place[4] = {0, 3, 1, 2}; /* N, C, H, W in [N, H, W, C] */
    return t->channels_last && axis < 4 ? place[axis] : axis;
}

static ft_shape ft__memory_shape(const ft__tensor *t)
{
    ft_shape shape = t->shape;
    int d;
    for (d = 0; d < shape.rank; ++d) shape.size[ft__memory_axis(t, d)] = t->shape.size[d];
    return shape;
}

static ft__axis ft__split_axis(const ft_shape *shape, int axis)
{
    ft__axis a = {1, 1, 1};
    int d;
    for (d = 0; d < shape->rank; ++d) {
        size_t size = (size_t)shape->size[d];
        if (d < axis) a.outer *= size;
        else if (d == axis) a.size = size;
        else a.inner *= size;
    }
    return a;
}

static ft_status ft__softmax_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    int axis = ft__axis_of(node, input[0].shape.rank);
    *output = input[0].shape;
    if (axis < 1 || axis >= input[0].shape.rank)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %d dimensions", node->name, axis,
                        input[0].shape.rank);
    return ft__want_numbers(c, node, input, input_count);
}

/* to = e^(from - largest) */
static void ft__exp_values(const float *from, float largest, float *to, size_t count)
{
    float lanes[FT__LANES];
    size_t at;
    int i;
    for (at = 0; at < count; at += FT__LANES) {
        ft__load_lanes(lanes, from + at, count - at);
        for (i = 0; i < FT__LANES; ++i) lanes[i] = ft__exp(lanes[i] - largest);
        ft__store_lanes(to + at, lanes, count - at);
    }
}

/* y = e^(x - max) / sum, or its logarithm x - max - log(sum): the largest exponent is 0. The sum is
   a double, so that it stays good for many classes. */
static void ft__softmax_line(const float *x, float *y, size_t count, size_t stride, bool logarithm)
{
    float largest = x[0], log_sum;
    double sum = 0;
    size_t i;
    for (i = 1; i < count; ++i)
        largest = ft__choose(x[i * stride] > largest, x[i * stride], largest);
    if (stride == 1) ft__exp_values(x, largest, y, count);
    else
        for (i = 0; i < count; ++i) y[i * stride] = ft__exp(x[i * stride] - largest);
    for (i = 0; i < count; ++i) sum += (double)y[i * stride];
    log_sum = logarithm ? ft__ln((float)sum) : 0;
    for (i = 0; i < count; ++i)
        y[i * stride] = logarithm ? (x[i * stride] - largest) - log_sum
                                  : y[i * stride] / (float)sum;
}

/* softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - e^y sum(dy). */
static void ft__softmax_line_backward(const float *y, const float *dy, float *dx, size_t count,
                                      size_t stride, bool logarithm)
{
    double total = 0;
    float sum;
    size_t i;
    for (i = 0; i < count; ++i)
        total += (double)dy[i * stride] * (logarithm ? 1.0 : (double)y[i * stride]);
    sum = (float)total;
    for (i = 0; i < count; ++i) {
        size_t j = i * stride;
        dx[j] += logarithm ? dy[j] - ft__exp(y[j]) * sum : y[j] * (dy[j] - sum);
    }
}

typedef struct ft__softmax_job {
    const ft__call *call;
    ft__axis axis;
    size_t lines;           /* of one index of the parallel loop */
    bool logarithm, backward;
} ft__softmax_job;

static void ft__softmax_chunk(void *context, int index)
{
    const ft__softmax_job *job = (const ft__softmax_job *)context;
    const ft__call *call = job->call;
    size_t line = (size_t)index * job->lines, end = line + job->lines;
    if (end > job->axis.outer * job->axis.inner) end = job->axis.outer * job->axis.inner;
    for (; line < end; ++line) {
        size_t at = line / job->axis.inner * job->axis.size * job->axis.inner
            + line % job->axis.inner;
        if (job->backward)
            ft__softmax_line_backward(call->output.value + at, call->output.gradient + at,
                                      call->input[0].gradient + at, job->axis.size,
                                      job->axis.inner, job->logarithm);
        else
            ft__softmax_line(call->input[0].value + at, call->output.value + at, job->axis.size,
                             job->axis.inner, job->logarithm);
    }
}

static void ft__softmax_run(const ft__call *call, bool logarithm, bool backward)
{
    ft_shape shape = ft__memory_shape(&call->output);
    ft__softmax_job job;
    size_t lines;
    job.call = call;
    job.axis = ft__split_axis(&shape, ft__memory_axis(&call->output,
                                                      ft__axis_of(call->node, shape.rank)));
    job.lines = job.axis.size < FT__CHUNK ? FT__CHUNK / job.axis.size : 1;
    job.logarithm = logarithm;
    job.backward = backward;
    lines = job.axis.outer * job.axis.inner;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, (int)((lines + job.lines - 1) / job.lines), ft__softmax_chunk,
                 &job);
}

static void ft__softmax_forward(const ft__call *call) { ft__softmax_run(call, false, false); }
static void ft__softmax_backward(const ft__call *call) { ft__softmax_run(call, false, true); }
static void ft__log_softmax_forward(const ft__call *call) { ft__softmax_run(call, true, false); }
static void ft__log_softmax_backward(const ft__call *call) { ft__softmax_run(call, true, true); }

/* ---- Dropout (Srivastava et al. 2014), scaled in training as PyTorch does. The mask is a function
   of the step's key and the position, so backward draws it again instead of keeping it. ---- */
static void ft__dropout_run(const ft__call *call, int index, bool backward)
{
    float p = call->node->options.dropout.probability, scale;
    bool identity = !call->training || call->node->frozen;
    bool locked = call->node->options.dropout.locked;
    size_t i = (size_t)index * FT__CHUNK, end = ft__count(&call->output), which;
    size_t each = call->output.shape.rank > 2 ? (size_t)call->output.shape.size[2] : 1;
    size_t sample = call->output.shape.rank > 1 ? (size_t)call->output.shape.size[1] * each : 1;
    if (p == 0) p = 0.5f;
    scale = p < 1 ? 1.0f / (1.0f - p) : 0.0f;
    if (end - i > FT__CHUNK) end = i + FT__CHUNK;
    for (; i < end; ++i) {
        float factor;
        which = locked ? i / sample * each + i % each : i;
        factor = identity ? 1.0f : ft__choose(ft__uniform(call->random, which) < p, 0.0f, scale);
        if (backward) call->input[0].gradient[i] += call->output.gradient[i] * factor;
        else call->output.value[i] = call->input[0].value[i] * factor;
    }
}

static void ft__dropout_forward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, false);
}

static void ft__dropout_backward_chunk(void *context, int index)
{
    ft__dropout_run((const ft__call *)context, index, true);
}

static void ft__dropout_forward(const ft__call *call)
{
    ft__parallel(call->context, ft__chunks(ft__count(&call->output)), ft__dropout_forward_chunk,
                 (void *)(uintptr_t)call);
}

static void ft__dropout_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, ft__chunks(ft__count(&call->output)),
                     ft__dropout_backward_chunk, (void *)(uintptr_t)call);
}

/* =============================================================================================
   [SECTION] 8.2 Convolution
   x [N, C, H, W], weight [O, C / groups, h, w], bias [O]. Every output pixel is a row of a matrix
   product (section 6.3): what the kernel sees there, [taps, channels], times the weights as
   [taps * channels, O].
       y = X W + bias,   dW = X^T dy,   dx = a convolution of dy with the kernel turned round
   Forward and dx are parted by blocks of pixels, dW by its own rows: each number has one owner.
   ============================================================================================= */
/* ---- Sums over the rows of [rows, columns], added to `to`: 64 rows at a time in float, those in
   double ---- */
typedef struct ft__column_job { const float *from; float *to; size_t rows, columns; }
    ft__column_job;

static void ft__column_sum(void *context, int index)
{
    const ft__column_job *job = (const ft__column_job *)context;
    size_t first = (size_t)index * 16, some = job->columns - first, r, begin, l;
    double total[16] = {0};
    if (some > 16) some = 16;
    for (begin = 0; begin < job->rows; begin += 64) {
        size_t end = job->rows - begin < 64 ? job->rows : begin + 64;
        float sum[16] = {0};
        for (r = begin; r < end; ++r) {
            const float *from = job->from + r * job->columns + first;
            if (some == 16) for (l = 0; l < 16; ++l) sum[l] += from[l];
            else for (l = 0; l < some; ++l) sum[l] += from[l];
        }
        for (l = 0; l < 16; ++l) total[l] += (double)sum[l];
    }
    for (l = 0; l < some; ++l) job->to[first + l] += (float)total[l];
}

static void ft__add_column_sums(ft__context *c, const float *from, size_t rows, size_t columns,
                                float *to)
{
    ft__column_job job;
    job.from = from;
    job.to = to;
    job.rows = rows;
    job.columns = columns;
    ft__parallel(c, (int)((columns + 15) / 16), ft__column_sum, &job);
}

/* Sets a gradient to zero: where a row that may write adds after all. */
static void ft__zero_chunk(void *context, int index)
{
    const ft__tensor *t = (const ft__tensor *)context;
    size_t at = (size_t)index * FT__CHUNK, count = ft__count(t) - at;
    memset(t->gradient + at, 0, (count < FT__CHUNK ? count : FT__CHUNK) * sizeof(float));
}

static void ft__zero(ft__context *c, const ft__tensor *t)
{
    ft__parallel(c, ft__chunks(ft__count(t)), ft__zero_chunk, (void *)(uintptr_t)t);
}

static const ft__field ft__conv2d_fields[] = {
    {"stride", offsetof(ft_conv2d_options, stride), 2, 'i'},
    {"padding", offsetof(ft_conv2d_options, padding), 4, 'i'},
    {"dilation", offsetof(ft_conv2d_options, dilation), 2, 'i'},
    {"groups", offsetof(ft_conv2d_options, groups), 1, 'i'},
    {"same", offsetof(ft_conv2d_options, same), 1, 'b'}, {NULL, 0, 0, 0}};

static int ft__or_one(const int pair[2], int i)
{
    int value = pair[i] ? pair[i] : pair[0];
    return value ? value : 1;
}

/* Everything about the shapes; out_height or out_width below 1 means that they do not fit. */
static ft__conv ft__conv_of(const ft_conv2d_options *o, const ft_shape *x, const ft_shape *w)
{
    bool uniform = !o->padding[1] && !o->padding[2] && !o->padding[3];
    ft__conv g;
    int64_t before[2], after[2];
    int i, out[2];
    memset(&g, 0, sizeof g);
    g.groups = (size_t)(o->groups ? o->groups : 1);
    g.batch = x->size[0] > 0 ? (size_t)x->size[0] : 1;
    g.channels = w->size[1];
    g.outputs = w->size[0] / (int)g.groups;
    g.height = x->size[2];
    g.width = x->size[3];
    for (i = 0; i < 2; ++i) {
        int64_t in = x->size[2 + i], reach, room; /* products of ints from files */
        g.kernel[i] = w->size[2 + i];
        g.stride[i] = ft__or_one(o->stride, i);
        g.dilation[i] = ft__or_one(o->dilation, i);
        before[i] = o->padding[uniform ? 0 : i];
        after[i] = o->padding[uniform ? 0 : 2 + i];
        reach = ((int64_t)g.kernel[i] - 1) * g.dilation[i] + 1;
        if (o->same) {
            room = (in + g.stride[i] - 1) / g.stride[i]; /* the output */
            before[i] = (room - 1) * g.stride[i] + reach - in;
            before[i] = before[i] > 0 ? before[i] / 2 : 0;
        } else {
            room = in + before[i] + after[i] - reach;
            room = room < 0 ? 0 : room / g.stride[i] + 1;
        }
        out[i] = reach > INT_MAX || room > INT_MAX ? 0 : (int)room;
    }
    g.top = (int)before[0];
    g.left = (int)before[1];
    g.out_height = out[0];
    g.out_width = out[1];
    g.k = (size_t)g.channels * (size_t)g.kernel[0] * (size_t)g.kernel[1];
    g.p = (size_t)g.out_height * (size_t)g.out_width;
    return g;
}

static ft_status ft__conv2d_options_check(ft__context *c, const ft__node *node)
{
    const ft_conv2d_options *o = &node->options.conv2d;
    int i;
    for (i = 0; i < 4; ++i) {
        int stride = o->stride[i % 2], dilation = o->dilation[i % 2], most = 1 << 20;
        if (stride < 0 || stride > most || dilation < 0 || dilation > 1 << 10
            || o->padding[i] < 0 || o->padding[i] > most || o->groups < 0)
            return ft__fail(c, FT_INVALID, "%s: stride %d, dilation %d, padding %d, groups %d:"
                            " negative or too large", node->name, stride, dilation,
                            o->padding[i], o->groups);
    }
    return FT_OK;
}

static ft_status ft__conv2d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    int groups = node->options.conv2d.groups ? node->options.conv2d.groups : 1;
    char text[80], other[80];
    ft__conv g;
    *output = *x;
    if (ft__conv2d_options_check(c, node) != FT_OK) return c->status;
    if (x->rank != 4 || w->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, C, H, W] and a weight of 4 dimensions, has %s"
                        " and %s", node->name, ft__shape_text(x, text), ft__shape_text(w, other));
    if (x->size[1] % groups != 0 || w->size[0] % groups != 0)
        return ft__fail(c, FT_SHAPE, "%s: %d groups do not divide %d input and %d output channels",
                        node->name, groups, x->size[1], w->size[0]);
    if (x->size[1] / groups != w->size[1])
        return ft__fail(c, FT_SHAPE, "%s: input has %d channels, weight wants %d (times %d groups)",
                        node->name, x->size[1], w->size[1], groups);
    if (input_count > 2 && (input[2].shape.rank != 1 || input[2].shape.size[0] != w->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: bias %s does not fit weight %s", node->name,
                        ft__shape_text(&input[2].shape, text), ft__shape_text(w, other));
    g = ft__conv_of(&node->options.conv2d, x, w);
    if (g.out_height < 1 || g.out_width < 1)
        return ft__fail(c, FT_SHAPE, "%s: kernel %dx%d, dilated by %d and %d, does not fit the"
                        " padded input %s", node->name, g.kernel[0], g.kernel[1], g.dilation[0],
                        g.dilation[1], ft__shape_text(x, text));
    output->size[1] = w->size[0];
    output->size[2] = g.out_height;
    output->size[3] = g.out_width;
    return ft__want_numbers(c, node, input, input_count);
}

static ft__conv ft__conv_of_call(const ft__call *call)
{
    return ft__conv_of(&call->node->options.conv2d, &call->input[0].shape, &call->input[1].shape);
}

/* ---- Depthwise: one input channel to a kernel, `outputs` kernels to a channel. The weights are
   copied as [tap][output channel]; each output row, input row or picture is one index. ---- */
#define FT__DEPTHWISE_WORK ((size_t)1 << 15) /* multiply-adds of an index: a few microseconds */

static size_t ft__depthwise_room(const ft__conv *g, bool training)
{
    size_t weights = g->k * g->groups * (size_t)g->outputs;
    return ft__pad_to(weights, 16) * (training ? 1 + g->batch : 1);
}

static void ft__depthwise_weights(const ft__call *call, const ft__conv *g, float *to)
{
    size_t channels = g->groups * (size_t)g->outputs, c, tap;
    for (c = 0; c < channels; ++c)
        for (tap = 0; tap < g->k; ++tap)
            to[tap * channels + c] = call->input[1].value[c * g->k + tap];
}

/* The window sums of one output channel of each input channel, all where there is one. `x` and `y`
   say on which side the channel of the input stands. */
static void ft__depthwise_run(const ft__call *call, const ft__conv *g, ft__window_sum s,
                              bool x_is_input, bool y_is_input)
{
    size_t o, outputs = (size_t)g->outputs;
    s.channels = g->groups;
    s.x_step = x_is_input ? 1 : outputs;
    s.y_step = y_is_input ? 1 : outputs;
    s.w_step = outputs;
    for (o = 0; o < outputs; ++o) {
        ft__window_sum_run(call->context, &s);
        if (!x_is_input) s.x += 1;
        if (!y_is_input) s.y += 1;
        if (s.bias) s.bias += 1;
        s.w += 1;
    }
}

/* Places of a kernel of `count` that meet an input of `size` at `at`: [*first, *last). */
static void ft__taps_inside(int count, int dilation, int at, int size, int *first, int *last)
{
    *first = at < 0 ? (-at + dilation - 1) / dilation : 0;
    *last = size - at <= 0 ? 0 : (size - at + dilation - 1) / dilation;
    if (*last > count) *last = count;
    if (*first > *last) *first = *last;
}

/* How many columns from `column` on meet the input in the same places: *left and *right, as
   ft__taps_inside gives them. */
static int ft__depthwise_alike(const ft__conv *g, int column, int *left, int *right)
{
    int x = column * g->stride[1] - g->left, count, next_left, next_right;
    int room = g->width - 1 - (g->kernel[1] - 1) * g->dilation[1] - x; /* to the right */
    ft__taps_inside(g->kernel[1], g->dilation[1], x, g->width, left, right);
    if (x >= 0 && room >= 0) {
        count = room / g->stride[1] + 1; /* all that see a whole kernel */
        return count < g->out_width - column ? count : g->out_width - column;
    }
    for (count = 1; column + count < g->out_width; ++count) {
        ft__taps_inside(g->kernel[1], g->dilation[1], x + count * g->stride[1], g->width,
                        &next_left, &next_right);
        if (next_left != *left || next_right != *right) break;
    }
    return count;
}

static void ft__depthwise_forward_row(const ft__call *call, ft__conv g, int index)
{
    size_t channels = g.groups * (size_t)g.outputs;
    int y = index % g.out_height * g.stride[0] - g.top, column, top, bottom, left, right;
    const float *picture = call->input[0].value + (size_t)(index / g.out_height)
        * (size_t)g.height * (size_t)g.width * g.groups;
    float *to = call->output.value + (size_t)index * (size_t)g.out_width * channels;
    ft__window_sum s;
    ft__taps_inside(g.kernel[0], g.dilation[0], y, g.height, &top, &bottom);
    memset(&s, 0, sizeof s);
    s.bias = call->input_count > 2 ? call->input[2].value : NULL;
    s.clamp = ft__is_clamp(call->fused, &s.low, &s.high);
    s.rows = bottom - top;
    s.x_column = g.dilation[1] * (ptrdiff_t)g.groups;
    s.x_row = g.dilation[0] * (ptrdiff_t)g.width * (ptrdiff_t)g.groups;
    s.x_next = g.stride[1] * (ptrdiff_t)g.groups;
    s.w_column = s.y_next = (ptrdiff_t)channels;
    s.w_row = g.kernel[1] * s.w_column;
    for (column = 0; column < g.out_width; column += s.count) {
        s.count = ft__depthwise_alike(&g, column, &left, &right);
        s.columns = s.rows > 0 ? right - left : 0;
        s.y = to + (size_t)column * channels;
        s.x = picture;
        if (s.columns > 0)
            s.x += ((ptrdiff_t)(y + top * g.dilation[0]) * g.width + column * g.stride[1] - g.left
                    + left * g.dilation[1]) * (ptrdiff_t)g.groups;
        s.w = (call->prepared ? call->prepared : call->workspace)
            + (size_t)(top * g.kernel[1] + left) * channels;
        ft__depthwise_run(call, &g, s, true, false);
    }
    if (call->fused && !s.clamp)
        ft__activate(call->fused, call->fused_options, to, (size_t)g.out_width * channels);
}

/* Rows of a result that an index of a parallel loop makes: less is not worth the hand-over. */
static int ft__depthwise_band(const ft__conv *g, int width)
{
    size_t row = (size_t)width * g->groups * (size_t)g->outputs * g->k;
    return 1 + (int)(FT__DEPTHWISE_WORK / row);
}

static void ft__depthwise_forward_band(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__conv g = ft__conv_of_call(call);
    int band = ft__depthwise_band(&g, g.out_width), rows = (int)g.batch * g.out_height, row;
    for (row = index * band; row < (index + 1) * band && row < rows; ++row)
        ft__depthwise_forward_row(call, g, row);
}

static void ft__depthwise_forward(const ft__call *call, const ft__conv *g)
{
    int band = ft__depthwise_band(g, g->out_width);
    if (!call->prepared || call->prepare)
        ft__depthwise_weights(call, g, call->prepared ? call->prepared : call->workspace);
    ft__parallel(call->context, ((int)g->batch * g->out_height + band - 1) / band,
                 ft__depthwise_forward_band, (void *)(uintptr_t)call);
}

/* One direction of the taps that lead from an input place back to outputs: the first tap, how many,
   the first tap's output; the next tap is `stride` further and its output one less, where the
   dilation is 1. */
static int ft__taps_back(int count, int stride, int at, int out, int *tap, int *place)
{
    int first = at % stride, found = 0, i;
    for (i = first; i < count && at - i >= 0; i += stride) {
        if ((at - i) / stride >= out) continue;
        if (found++ == 0) {
            *tap = i;
            *place = (at - i) / stride;
        }
    }
    return found;
}

/* dx of one pixel with a dilation: tap by tap. */
static void ft__depthwise_dilated(const ft__call *call, const ft__conv *g, const float *dy,
                                  int row, int column, ft__window_sum s)
{
    size_t channels = g->groups * (size_t)g->outputs;
    int tap;
    s.add = true;
    s.rows = s.columns = s.count = 1;
    for (tap = 0; tap < g->kernel[0] * g->kernel[1]; ++tap) {
        int y = row - tap / g->kernel[1] * g->dilation[0];
        int x = column - tap % g->kernel[1] * g->dilation[1];
        if (y < 0 || x < 0 || y % g->stride[0] || x % g->stride[1]
            || y / g->stride[0] >= g->out_height || x / g->stride[1] >= g->out_width) continue;
        s.x = dy + ((size_t)(y / g->stride[0]) * (size_t)g->out_width
                    + (size_t)(x / g->stride[1])) * channels;
        s.w = call->workspace + (size_t)tap * channels;
        ft__depthwise_run(call, g, s, false, true);
    }
}

static void ft__depthwise_input_row(const ft__call *call, ft__conv g, int index)
{
    size_t channels = g.groups * (size_t)g.outputs;
    int row = index % g.height + g.top, phase, at, tap_y = 0, tap_x = 0, y = 0, x = 0;
    int stride = g.stride[1], next_tap = 0, next_x = 0;
    const float *dy = call->output.gradient + (size_t)(index / g.height) * g.p * channels;
    float *dx = call->input[0].gradient + (size_t)index * (size_t)g.width * g.groups;
    ft__window_sum s;
    memset(&s, 0, sizeof s);
    for (at = 0; (g.dilation[0] != 1 || g.dilation[1] != 1) && at < g.width; ++at) {
        s.y = dx + (size_t)at * g.groups;
        ft__depthwise_dilated(call, &g, dy, row, at + g.left, s);
    }
    s.add = true;
    s.rows = ft__taps_back(g.kernel[0], g.stride[0], row, g.out_height, &tap_y, &y);
    if (g.dilation[0] != 1 || g.dilation[1] != 1 || s.rows == 0) return;
    s.x_column = -(ptrdiff_t)channels;
    s.x_row = s.x_column * g.out_width;
    s.x_next = (ptrdiff_t)channels;
    s.y_next = stride * (ptrdiff_t)g.groups;
    s.w_column = stride * (ptrdiff_t)channels;
    s.w_row = (ptrdiff_t)g.stride[0] * g.kernel[1] * (ptrdiff_t)channels;
    for (phase = 0; phase < stride; ++phase) /* columns of one phase meet the same taps */
        for (at = phase; at < g.width; at += s.count * stride) {
            s.columns = ft__taps_back(g.kernel[1], stride, at + g.left, g.out_width, &tap_x, &x);
            for (s.count = 1; at + s.count * stride < g.width; ++s.count)
                if (ft__taps_back(g.kernel[1], stride, at + s.count * stride + g.left,
                                  g.out_width, &next_tap, &next_x) != s.columns
                    || s.columns == 0 || next_tap != tap_x) break;
            if (s.columns == 0) continue;
            s.y = dx + (size_t)at * g.groups;
            s.x = dy + ((size_t)y * (size_t)g.out_width + (size_t)x) * channels;
            s.w = call->workspace + (size_t)(tap_y * g.kernel[1] + tap_x) * channels;
            ft__depthwise_run(call, &g, s, false, true);
        }
}

static void ft__depthwise_input_band(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__conv g = ft__conv_of_call(call);
    int band = ft__depthwise_band(&g, g.width), rows = (int)g.batch * g.height, row;
    for (row = index * band; row < (index + 1) * band && row < rows; ++row)
        ft__depthwise_input_row(call, g, row);
}

/* The weight's gradient of one picture, [tap][output channel], in the picture's own memory. */
static void ft__depthwise_weight_picture(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    ft__conv g = ft__conv_of_call(call);
    size_t channels = g.groups * (size_t)g.outputs, room = ft__pad_to(g.k * channels, 16), i;
    const float *x = call->input[0].value + (size_t)index * (size_t)g.height * (size_t)g.width
        * g.groups;
    const float *dy = call->output.gradient + (size_t)index * g.p * channels;
    float *sum = call->workspace + room * (1 + (size_t)index);
    int row, tap;
    for (i = 0; i < g.k * channels; ++i) sum[i] = 0;
    for (row = 0; row < g.out_height; ++row)
        for (tap = 0; tap < g.kernel[0] * g.kernel[1]; ++tap) {
            int y = row * g.stride[0] + tap / g.kernel[1] * g.dilation[0] - g.top;
            int from = tap % g.kernel[1] * g.dilation[1] - g.left, first, last;
            ft__window_sum s;
            ft__taps_inside(g.out_width, g.stride[1], from, g.width, &first, &last);
            if (y < 0 || y >= g.height || first == last) continue;
            memset(&s, 0, sizeof s);
            s.y = sum + (size_t)tap * channels;
            s.add = true;
            s.rows = s.count = 1;
            s.columns = last - first;
            s.x = x + ((ptrdiff_t)y * g.width + from + first * g.stride[1])
                * (ptrdiff_t)g.groups;
            s.x_column = g.stride[1] * (ptrdiff_t)g.groups;
            s.w = dy + ((size_t)row * (size_t)g.out_width + (size_t)first) * channels;
            s.w_column = (ptrdiff_t)channels;
            ft__depthwise_run(call, &g, s, true, false);
        }
}

static void ft__depthwise_backward(const ft__call *call, const ft__conv *g)
{
    size_t channels = g->groups * (size_t)g->outputs, room = ft__pad_to(g->k * channels, 16);
    size_t picture, c, tap;
    int band = ft__depthwise_band(g, g->width);
    if (call->input[0].gradient) {
        if (call->input[0].fresh) ft__zero(call->context, &call->input[0]);
        ft__depthwise_weights(call, g, call->workspace);
        ft__parallel(call->context, ((int)g->batch * g->height + band - 1) / band,
                     ft__depthwise_input_band, (void *)(uintptr_t)call);
    }
    if (!call->input[1].gradient) return;
    ft__parallel(call->context, (int)g->batch, ft__depthwise_weight_picture,
                 (void *)(uintptr_t)call);
    for (picture = 0; picture < g->batch; ++picture)
        for (c = 0; c < channels; ++c)
            for (tap = 0; tap < g->k; ++tap)
                call->input[1].gradient[c * g->k + tap]
                    += call->workspace[room * (1 + picture) + tap * channels + c];
}

/* ---- Memory, and what every slot needs to know ---- */
#define FT__WEIGHT_CHUNK ((size_t)512) /* pixels that dW is summed over in one go */
#define FT__WEIGHT_TILES ((size_t)4)   /* tiles of dW's rows that are packed together */

static bool ft__conv_is_depthwise(const ft__conv *g)
{
    return g->channels == 1 && g->groups > 1;
}

static size_t ft__largest_of(size_t a, size_t b) { return a > b ? a : b; }
static size_t ft__least_of(size_t a, size_t b) { return a < b ? a : b; }

/* In numbers of 4 bytes: what all slots share, and what each has. */
typedef struct ft__conv_room { size_t shared, zeros, lists, table, slot; } ft__conv_room;

static size_t ft__conv_chunk(const ft__conv *g)
{
    return ft__least_of(FT__WEIGHT_CHUNK, g->batch * g->p);
}

/* dW is parted among threads by its rows; where it has few, by segments of the pixels instead, each
   with sums of its own. How many does not depend on the threads: nor do the bits. */
#define FT__WEIGHT_SEGMENTS ((size_t)16)

static size_t ft__conv_segments(const ft__context *c, const ft__conv *g)
{
    size_t rows = ft__few_channels(g) ? g->k : (size_t)g->channels;
    size_t taps = ft__few_channels(g) ? 1 : (size_t)g->kernel[0] * (size_t)g->kernel[1];
    size_t most = ft__tiles[c->simd].rows * FT__WEIGHT_TILES;
    size_t chunks = (g->batch * g->p + FT__WEIGHT_CHUNK - 1) / FT__WEIGHT_CHUNK;
    if (taps * ((rows + most - 1) / most) >= FT__WEIGHT_SEGMENTS) return 1;
    return chunks < FT__WEIGHT_SEGMENTS ? chunks : FT__WEIGHT_SEGMENTS;
}

static ft__conv_room ft__conv_room_of(const ft__context *c, const ft__conv *g, bool training)
{
    size_t taps = (size_t)g->kernel[0] * (size_t)g->kernel[1], chunk = ft__conv_chunk(g);
    size_t rows = ft__tiles[c->simd].rows, block = FT__WALK_TILES * rows, weight;
    size_t outputs = (size_t)g->outputs, channels = (size_t)g->channels;
    size_t pointer = sizeof(void *) / sizeof(float);
    ft__conv_room room;
    room.shared = g->groups * ft__packed_right(c, outputs, g->k);
    room.zeros = ft__largest_of(channels, outputs);
    if (ft__few_channels(g)) room.zeros = ft__largest_of(room.zeros, g->k);
    room.zeros = ft__pad_to(room.zeros, 16);
    room.lists = ft__pad_to(3 * taps, 16);
    room.table = ft__pad_to(taps * block * pointer, 16);
    room.slot = room.table + (ft__few_channels(g) ? block * g->k : 0);
    if (training) {
        weight = rows * FT__WEIGHT_TILES * chunk + ft__packed_right(c, outputs, chunk)
            + chunk * pointer + (ft__few_channels(g) ? chunk * g->k : 0);
        room.shared = ft__largest_of(room.shared, ft__packed_right(c, channels, outputs * taps));
        room.shared = ft__largest_of(room.shared, ft__conv_segments(c, g) * g->k * outputs);
        room.slot = ft__largest_of(room.slot, room.table + block * channels);
        room.slot = ft__largest_of(room.slot, weight);
    }
    room.shared = ft__pad_to(room.shared, 16);
    room.slot = ft__pad_to(room.slot, 16);
    return room;
}

typedef struct ft__conv_run {
    const ft__call *call;
    ft__conv g;
    ft__conv_room room;
    const ft__tile_row *tile;
    float *shared, *slots;
    int *tap_at;            /* of each tap that is used: its place in the kernel */
    ft__walk walk;
    size_t group;           /* the one that is worked on, where they come one after another */
    size_t parts;           /* into how many the columns of the result are parted */
    int phase[2];           /* dx with a stride: the first row and column of the grid */
    size_t *next;           /* the next piece that nobody has taken */
} ft__conv_run;

static ft__conv_run ft__conv_start(const ft__call *call, const ft__conv *g)
{
    ft__conv_run run;
    float *zeros, *lists;
    size_t i;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.g = *g;
    run.room = ft__conv_room_of(call->context, &run.g, call->output.gradient != NULL);
    run.tile = &ft__tiles[call->context->simd];
    run.shared = call->workspace;
    zeros = run.shared + run.room.shared;
    lists = zeros + run.room.zeros;
    run.slots = lists + run.room.lists;
    for (i = 0; i < run.room.zeros; ++i) zeros[i] = 0;
    run.walk.zeros = zeros;
    run.walk.offset = (int *)(void *)lists;
    run.tap_at = (int *)(void *)lists + 2 * run.g.kernel[0] * run.g.kernel[1];
    return run;
}

/* The walk of the input's pixels under the kernel, at the output's pixels. */
static void ft__conv_walk_input(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    ft__walk *w = &run->walk;
    int *offset = (int *)(void *)(uintptr_t)w->offset, tap;
    w->from = run->call->input[0].value;
    w->height = g->height;
    w->width = g->width;
    w->channels = (size_t)g->channels;
    w->pixel = g->groups * w->channels;
    w->rows = g->out_height;
    w->columns = g->out_width;
    w->step[0] = g->stride[0];
    w->step[1] = g->stride[1];
    w->taps = g->kernel[0] * g->kernel[1];
    for (tap = 0; tap < w->taps; ++tap) {
        run->tap_at[tap] = tap;
        offset[2 * tap] = tap / g->kernel[1] * g->dilation[0] - g->top;
        offset[2 * tap + 1] = tap % g->kernel[1] * g->dilation[1] - g->left;
    }
}

/* A piece of a result [points, columns]: a block of points and a part of the columns. */
typedef struct ft__piece { size_t first, count, column, columns; } ft__piece;

/* Few points (one small picture) are shared out by columns, so that all threads have work. */
static size_t ft__conv_parts(const ft__conv_run *run, size_t points, size_t columns)
{
    size_t blocks = points / (FT__WALK_TILES * run->tile->rows) + 1;
    size_t panels = (columns + run->tile->columns - 1) / run->tile->columns;
    size_t wanted = 4 * (size_t)run->call->context->threads / blocks;
    return ft__largest_of(1, ft__least_of(wanted, panels));
}

static size_t ft__conv_pieces(const ft__conv_run *run, size_t points)
{
    size_t block = FT__WALK_TILES * run->tile->rows;
    return (points + block - 1) / block * run->parts;
}

static ft__piece ft__conv_piece(const ft__conv_run *run, size_t index, size_t points,
                                size_t columns)
{
    size_t block = FT__WALK_TILES * run->tile->rows, part = index % run->parts;
    size_t panels = (columns + run->tile->columns - 1) / run->tile->columns, end;
    ft__piece piece;
    piece.first = index / run->parts * block;
    piece.count = ft__least_of(block, points - piece.first);
    piece.column = panels * part / run->parts * run->tile->columns;
    end = panels * (part + 1) / run->parts * run->tile->columns;
    piece.columns = ft__least_of(end, columns) - piece.column;
    return piece;
}

/* ---- Forward ---- */

/* Gathers the rows of a piece: the number of stretches, and their length, as they come out. */
static void ft__conv_rows(const ft__conv_run *run, const ft__piece *piece, size_t group,
                          const float **table, size_t *taps, size_t *k)
{
    const ft__conv *g = &run->g;
    ft__walk w = run->walk;
    bool few = ft__few_channels(g);
    w.from += group * w.channels;
    *taps = (size_t)(few ? g->kernel[0] : w.taps);
    *k = g->k / *taps;
    if (few)
        ft__few_rows(g, w.from, piece->first, piece->count, run->tile->rows, w.zeros,
                     (float *)(void *)table + run->room.table, table);
    else ft__walk_rows(&w, piece->first, piece->count, run->tile->rows, table);
}

static void ft__conv_forward_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__call *call = run->call;
    const ft__conv *g = &run->g;
    size_t points = g->batch * g->p, pieces = ft__conv_pieces(run, points), i, r, taps, k;
    size_t outputs = (size_t)g->outputs, stride = g->groups * outputs;
    const float **table = (const float **)(void *)(run->slots + (size_t)slot * run->room.slot);
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL;
    ft__finish f;
    f.clamp = ft__is_clamp(call->fused, &f.low, &f.high);
    f.stride = stride;
    FT__PIECES(i, run->next, slot, call->context->threads, pieces * g->groups) {
        size_t group = i / pieces;
        ft__piece piece = ft__conv_piece(run, i % pieces, points, outputs);
        f.y = call->output.value + piece.first * stride + group * outputs + piece.column;
        f.count = piece.count;
        f.columns = piece.columns;
        f.bias = bias ? bias + group * outputs + piece.column : NULL;
        ft__conv_rows(run, &piece, group, table, &taps, &k);
        ft__multiply_rows(run->tile, table, piece.count, taps, k,
                          run->shared + group * ft__packed_right(call->context, outputs, g->k)
                              + piece.column * g->k,
                          piece.columns, f.y, stride, false);
        if (f.bias || f.clamp) ft__finish_run(call->context, &f);
        for (r = 0; call->fused && !f.clamp && r < piece.count; ++r)
            ft__activate(call->fused, call->fused_options, f.y + r * stride, piece.columns);
    }
}

static void ft__conv_forward(const ft__call *call, const ft__conv *g)
{
    ft__conv_run run = ft__conv_start(call, g);
    ft__weight_pack pack;
    size_t group, next = 0;
    ft__conv_walk_input(&run);
    run.parts = ft__conv_parts(&run, g->batch * g->p, (size_t)g->outputs);
    pack.n = (size_t)g->outputs;
    pack.k = (size_t)g->channels;
    pack.n_step = g->k;
    pack.k_step = (size_t)run.walk.taps;
    pack.taps = run.walk.taps;
    pack.tap_at = run.tap_at;
    if (call->prepared) run.shared = call->prepared;
    for (group = 0; group < g->groups && (!call->prepared || call->prepare); ++group) {
        pack.weight = call->input[1].value + group * pack.n * g->k;
        pack.to = run.shared + group * ft__packed_right(call->context, pack.n, g->k);
        ft__pack_weights(call->context, &pack);
    }
    run.next = &next;
    ft__parallel(call->context, call->context->threads, ft__conv_forward_slot, &run);
}

/* ---- Backward: the input's gradient. Input row i gets something from the output rows o with
   o * stride + tap * dilation - padding = i. With a stride, rows of the same rest (phase) have the
   same taps: each phase is a walk over dy with a stride of 1. ---- */

static void ft__conv_walk_output(ft__conv_run *run, int phase_row, int phase_column)
{
    const ft__conv *g = &run->g;
    ft__walk *w = &run->walk;
    int *offset = (int *)(void *)(uintptr_t)w->offset, tap, area = g->kernel[0] * g->kernel[1];
    run->phase[0] = phase_row;
    run->phase[1] = phase_column;
    w->from = run->call->output.gradient + run->group * (size_t)g->outputs;
    w->height = g->out_height;
    w->width = g->out_width;
    w->channels = (size_t)g->outputs;
    w->pixel = g->groups * w->channels;
    w->rows = (g->height - phase_row + g->stride[0] - 1) / g->stride[0];
    w->columns = (g->width - phase_column + g->stride[1] - 1) / g->stride[1];
    w->step[0] = w->step[1] = 1;
    w->taps = 0;
    for (tap = 0; tap < area; ++tap) {
        int y = phase_row + g->top - tap / g->kernel[1] * g->dilation[0];
        int x = phase_column + g->left - tap % g->kernel[1] * g->dilation[1];
        if (y % g->stride[0] != 0 || x % g->stride[1] != 0) continue;
        run->tap_at[w->taps] = tap;
        offset[2 * w->taps] = y / g->stride[0];
        offset[2 * w->taps + 1] = x / g->stride[1];
        w->taps += 1;
    }
}

/* Adds rows [count, columns] to the pixels of dx that the points of the grid stand for. */
static void ft__conv_scatter(const ft__conv_run *run, const ft__piece *piece, const float *from,
                             float *dx, size_t pixel)
{
    const ft__conv *g = &run->g;
    size_t plane = (size_t)run->walk.rows * (size_t)run->walk.columns, i, l;
    for (i = piece->first; i < piece->first + piece->count; ++i, from += piece->columns) {
        size_t row = i % plane / (size_t)run->walk.columns * (size_t)g->stride[0];
        size_t column = i % plane % (size_t)run->walk.columns * (size_t)g->stride[1];
        float *to = dx + ((i / plane * (size_t)g->height + row + (size_t)run->phase[0])
                          * (size_t)g->width + column + (size_t)run->phase[1]) * pixel;
        for (l = 0; l < piece->columns; ++l) to[l] += from[l];
    }
}

static void ft__conv_input_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    const ft__walk *w = &run->walk;
    size_t points = g->batch * (size_t)w->rows * (size_t)w->columns, i;
    size_t pieces = ft__conv_pieces(run, points), channels = (size_t)g->channels;
    size_t pixel = g->groups * channels;
    const float **table = (const float **)(void *)(run->slots + (size_t)slot * run->room.slot);
    float *aside = (float *)(void *)table + run->room.table;
    bool direct = g->stride[0] == 1 && g->stride[1] == 1;
    FT__PIECES(i, run->next, slot, run->call->context->threads, pieces) {
        ft__piece piece = ft__conv_piece(run, i, points, channels);
        float *dx = run->call->input[0].gradient + run->group * channels + piece.column;
        ft__walk_rows(w, piece.first, piece.count, run->tile->rows, table);
        ft__multiply_rows(run->tile, table, piece.count, (size_t)w->taps, w->channels,
                          run->shared + piece.column * (size_t)w->taps * w->channels,
                          piece.columns, direct ? dx + piece.first * pixel : aside,
                          direct ? pixel : piece.columns,
                          direct && !run->call->input[0].fresh);
        if (!direct) ft__conv_scatter(run, &piece, aside, dx, pixel);
    }
}

static void ft__conv_input_gradient(ft__conv_run *run)
{
    const ft__conv *g = &run->g;
    const ft__call *call = run->call;
    ft__weight_pack pack;
    int phase, phases = g->stride[0] * g->stride[1];
    size_t next;
    pack.n = (size_t)g->channels;
    pack.k = (size_t)g->outputs;
    pack.n_step = (size_t)g->kernel[0] * (size_t)g->kernel[1];
    pack.k_step = g->k;
    if (call->input[0].fresh && phases > 1) ft__zero(call->context, &call->input[0]);
    for (run->group = 0; run->group < g->groups; ++run->group)
        for (phase = 0; phase < phases; ++phase) {
            int row = phase / g->stride[1], column = phase % g->stride[1];
            if (row >= g->height || column >= g->width) continue;
            ft__conv_walk_output(run, row, column);
            if (run->walk.taps == 0) continue;
            run->parts = ft__conv_parts(run, g->batch * (size_t)run->walk.rows
                                        * (size_t)run->walk.columns, pack.n);
            pack.taps = run->walk.taps;
            pack.tap_at = run->tap_at;
            pack.weight = call->input[1].value + run->group * (size_t)g->outputs * g->k;
            pack.to = run->shared;
            ft__pack_weights(call->context, &pack);
            next = 0;
            run->next = &next;
            ft__parallel(call->context, call->context->threads, ft__conv_input_slot, run);
        }
}

/* ---- Backward: the weight's gradient, summed over chunks of pixels as [tap][channel][output],
   then turned into the weight's own order. A slot owns units of rows: channels of a tap. ---- */

/* Packs rows [row, row + rows) of a tap (`lines`: its stretch at each pixel) as panels over the
   pixels. */
static void ft__pack_pixels(const float *const *lines, size_t count, size_t row, size_t rows,
                            size_t width, float *to)
{
    size_t begin, p, l;
    for (begin = 0; begin < rows; begin += width) {
        size_t valid = ft__least_of(width, rows - begin);
        for (p = 0; p < count; ++p, to += width) {
            const float *from = lines[p] + row + begin;
            if (valid == 8) memcpy(to, from, 8 * sizeof *to);
            else {
                for (l = 0; l < valid; ++l) to[l] = from[l];
                for (; l < width; ++l) to[l] = 0;
            }
        }
    }
}

/* One unit over one chunk: adds to `sum` [rows, outputs]. */
static void ft__conv_weight_unit(const ft__conv_run *run, size_t count, size_t rows,
                                 const float *packed, const float *dy, float *sum, bool first)
{
    const ft__tile_row *tile = run->tile;
    size_t outputs = (size_t)run->g.outputs, j, i, r, width;
    const float *row[FT__TILE_ROWS];
    for (j = 0; j < outputs; j += width) {
        width = ft__panel_width(tile, outputs, j);
        for (i = 0; i < rows; i += tile->rows) {
            for (r = 0; r < tile->rows; ++r) row[r] = packed + i * count + r;
            ft__gemm_tile(tile, rows - i, outputs - j, 1, count, row, tile->rows, dy + j * count,
                          width, sum + i * outputs + j, outputs, !first);
        }
    }
}

/* The stretches of one tap at `count` pixels: of the patches where those are used. */
static void ft__conv_lines(const ft__conv_run *run, size_t tap, size_t first, size_t count,
                           float *patches, const float **lines)
{
    ft__walk w = run->walk;
    size_t i;
    w.from += run->group * w.channels;
    if (ft__few_channels(&run->g))
        for (i = 0; i < count; ++i) lines[i] = patches + i * run->g.k;
    else {
        w.taps = 1;
        w.offset += 2 * tap;
        ft__walk_rows(&w, first, count, 1, lines);
    }
}

/* Sums over the pixels [first, end) for the units that `unit`, `unit` + `step`, ... number. */
static void ft__conv_weight_sum(const ft__conv_run *run, float *scratch, size_t first, size_t end,
                                size_t unit, size_t step, float *sum)
{
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, chunk = ft__conv_chunk(g), begin = first, i, j, width;
    size_t most = run->tile->rows * FT__WEIGHT_TILES;
    bool few = ft__few_channels(g);
    size_t rows = few ? g->k : (size_t)g->channels, units = (rows + most - 1) / most;
    size_t taps = few ? 1 : (size_t)run->walk.taps;
    float *packed = scratch, *dy = packed + most * chunk;
    const float **lines = (const float **)(void *)(dy + ft__packed_right(run->call->context,
                                                                         outputs, chunk));
    float *patches = (float *)(void *)(lines + chunk);
    for (; first < end; first += chunk) {
        size_t count = ft__least_of(chunk, end - first);
        ft__matrix right = ft__transposed(ft__rows_of(
            run->call->output.gradient + first * g->groups * outputs + run->group * outputs,
            g->groups * outputs));
        for (j = 0; j < outputs; j += width, right.at += width) {
            width = ft__panel_width(run->tile, outputs, j);
            ft__pack_panel(right, ft__least_of(width, outputs - j), width, count, dy + j * count);
        }
        if (few) ft__patches(g, run->walk.from + run->group * (size_t)g->channels, first, count,
                             patches);
        for (i = unit; i < taps * units; i += step) {
            size_t tap = i / units, row = i % units * most, some = ft__least_of(most, rows - row);
            ft__conv_lines(run, tap, first, count, patches, lines);
            ft__pack_pixels(lines, count, row, some, run->tile->rows, packed);
            ft__conv_weight_unit(run, count, some, packed, dy,
                                 sum + (tap * rows + row) * outputs, first == begin);
        }
    }
}

static void ft__conv_weight_slot(void *context, int slot)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t segments = ft__conv_segments(run->call->context, g), points = g->batch * g->p, i;
    size_t threads = (size_t)run->call->context->threads, numbers = g->k * (size_t)g->outputs;
    float *scratch = run->slots + (size_t)slot * run->room.slot;
    if (segments == 1)
        ft__conv_weight_sum(run, scratch, 0, points, (size_t)slot, threads, run->shared);
    else
        for (i = (size_t)slot; i < segments; i += threads)
            ft__conv_weight_sum(run, scratch, points * i / segments, points * (i + 1) / segments,
                                0, 1, run->shared + i * numbers);
}

/* Adds the sums [tap][channel][output] of outputs [16 i, 16 i + 16) to the gradient. */
static void ft__conv_weight_turn(void *context, int index)
{
    const ft__conv_run *run = (const ft__conv_run *)context;
    const ft__conv *g = &run->g;
    size_t outputs = (size_t)g->outputs, o = (size_t)index * 16, c, tap, l;
    size_t channels = (size_t)g->channels, taps = (size_t)run->walk.taps;
    size_t some = ft__least_of(16, outputs - o);
    float *dw = run->call->input[1].gradient + (run->group * outputs + o) * g->k;
    size_t segments = ft__conv_segments(run->call->context, g), segment;
    for (segment = 0; segment < segments; ++segment)
        for (c = 0; c < channels; ++c)
            for (tap = 0; tap < taps; ++tap) {
                const float *from = run->shared
                    + ((segment * taps + tap) * channels + c) * outputs + o;
                for (l = 0; l < some; ++l) dw[l * g->k + c * taps + tap] += from[l];
            }
}

static void ft__conv_weight_gradient(ft__conv_run *run)
{
    const ft__call *call = run->call;
    ft__conv_walk_input(run);
    for (run->group = 0; run->group < run->g.groups; ++run->group) {
        ft__parallel(call->context, call->context->threads, ft__conv_weight_slot, run);
        ft__parallel(call->context, (run->g.outputs + 15) / 16, ft__conv_weight_turn, run);
    }
}

/* =============================================================================================
   [SECTION] 8.2.1 Convolution in Winograd's form
   Forward and dx (section 6.4): transform, multiply, transform back. Where the weights fit into a
   thread's cache, each thread does all three for a few tiles at a time; else all threads take one
   of the three after the other, so that each reads a part of the weights only.
   ============================================================================================= */
/* Numbers of all weights, transformed; and, where they are too many, of a part that a thread makes,
   uses and forgets: some channels of a panel. */
static size_t ft__winograd_packed(const ft__context *c, const ft__conv *g)
{
    return FT__TILE_INPUTS * ft__packed_right(c, (size_t)g->outputs, (size_t)g->channels);
}

static size_t ft__winograd_part(const ft__context *c)
{
    return FT__TILE_INPUTS * FT__WINOGRAD_DEPTH * ft__tiles[c->simd].columns;
}

typedef struct ft__winograd_run {
    const ft__call *call;
    const ft__conv *g;
    ft__winograd w;
    bool backward;          /* dx: the weights change sides, and the kernel is turned round */
    float *packed, *zeros, *v, *m, *slots;
    size_t slot;            /* numbers of each slot */
} ft__winograd_run;

/* Transforms weights: a panel's columns, `k` of the channels from `from` on, to [36][k][width]. */
static void ft__winograd_weights(const ft__winograd_run *run, ft__winograd_panel p, size_t from,
                                 size_t k, float *to)
{
    const ft__context *c = run->call->context;
    size_t lanes = ft__least_of(16, p.width), i, l, n;
    size_t n_step = run->backward ? 9 : run->g->k, k_step = run->backward ? run->g->k : 9;
    float g[9][16];
    ft__winograd_tile t;
    int tap, at;
    memset(&t, 0, sizeof t);
    t.channels = lanes;
    for (tap = 0; tap < 9; ++tap) t.from[tap] = g[tap];
    for (i = 0; i < k; ++i)
        for (n = 0; n < p.width; n += lanes) {
            const float *weight = run->call->input[1].value + (p.column + n) * n_step
                + (from + i) * k_step;
            for (l = 0; l < lanes; ++l)
                for (tap = 0; tap < 9; ++tap)
                    g[tap][l] = weight[l * n_step + (size_t)(run->backward ? 8 - tap : tap)];
            for (at = 0; at < FT__TILE_INPUTS; ++at)
                t.to[at] = to + ((size_t)at * k + i) * p.width + n;
            ft__winograds[c->simd].weight(&t);
        }
}

/* All channels of a panel, to their place among the packed ones. */
static void ft__winograd_pack_panel(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    ft__winograd_panel p = ft__winograd_panel_of(&run->w, (size_t)index);
    ft__winograd_weights(run, p, 0, run->w.channels,
                         run->packed + FT__TILE_INPUTS * run->w.channels * p.column);
}

/* Back to pixels, and the activation over those. */
static void ft__winograd_finish(const ft__winograd_run *run, size_t first, size_t count,
                                const float *m, size_t row, size_t rows)
{
    const ft__winograd *w = &run->w;
    size_t i, picture, line;
    int y, x;
    for (i = 0; i < count; ++i) {
        ft__winograd_outputs(w, first + i, 1, m, row + i, rows);
        if (run->backward || !run->call->fused) continue;
        ft__winograd_place(w, first + i, &picture, &y, &x);
        for (line = (size_t)y; line < (size_t)y + 4 && line < (size_t)w->out_height; ++line)
            ft__activate(run->call->fused, run->call->fused_options, w->to
                         + ((picture * (size_t)w->out_height + line) * (size_t)w->out_width
                            + (size_t)x) * w->outputs,
                         (size_t)(w->out_width - x < 4 ? w->out_width - x : 4) * w->outputs);
    }
}

static size_t ft__winograd_panels(const ft__winograd *w)
{
    size_t columns = ft__tiles[w->context->simd].columns;
    return (w->outputs + columns - 1) / columns;
}

static void ft__winograd_slot(void *context, int slot)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    const ft__winograd *w = &run->w;
    size_t step = w->chunk * (size_t)w->context->threads, first, panel;
    float *v = run->slots + (size_t)slot * run->slot;
    float *m = v + FT__TILE_INPUTS * w->chunk * w->channels;
    for (first = (size_t)slot * w->chunk; first < w->tiles; first += step) {
        size_t count = ft__least_of(w->chunk, w->tiles - first);
        ft__winograd_inputs(w, first, count, v, 0, w->chunk);
        for (panel = 0; panel < ft__winograd_panels(w); ++panel) {
            ft__winograd_panel p = ft__winograd_panel_of(w, panel);
            ft__winograd_products(w, v, m, p, 0, w->channels,
                                  run->packed + FT__TILE_INPUTS * w->channels * p.column, count,
                                  w->chunk);
        }
        ft__winograd_finish(run, first, count, m, 0, w->chunk);
    }
}

/* The three stages of a chunk that all threads share; an index is 4 tiles, or a slot. */
static void ft__winograd_shared_in(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    size_t at = 4 * (size_t)index, count = ft__least_of(4, run->w.count - at);
    ft__winograd_inputs(&run->w, run->w.first + at, count, run->v, at, run->w.chunk);
}

static void ft__winograd_shared_products(void *context, int slot)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    const ft__winograd *w = &run->w;
    size_t panel, from;
    float *part = run->slots + (size_t)slot * run->slot;
    for (panel = (size_t)slot; panel < ft__winograd_panels(w);
         panel += (size_t)w->context->threads) {
        ft__winograd_panel p = ft__winograd_panel_of(w, panel);
        if (run->packed) {
            ft__winograd_products(w, run->v, run->m, p, 0, w->channels,
                                  run->packed + FT__TILE_INPUTS * w->channels * p.column,
                                  w->count, w->chunk);
            continue;
        }
        for (from = 0; from < w->channels; from += FT__WINOGRAD_DEPTH) {
            size_t k = ft__least_of(FT__WINOGRAD_DEPTH, w->channels - from);
            ft__winograd_weights(run, p, from, k, part);
            ft__winograd_products(w, run->v, run->m, p, from, k, part, w->count, w->chunk);
        }
    }
}

static void ft__winograd_shared_out(void *context, int index)
{
    const ft__winograd_run *run = (const ft__winograd_run *)context;
    size_t at = 4 * (size_t)index, count = ft__least_of(4, run->w.count - at);
    ft__winograd_finish(run, run->w.first + at, count, run->m, at, run->w.chunk);
}

/* Sizes and places for forward or dx. */
static ft__winograd_run ft__winograd_start(const ft__call *call, const ft__conv *g, bool backward)
{
    size_t largest = ft__pad_to((size_t)(g->channels > g->outputs ? g->channels : g->outputs), 16);
    ft__winograd_run run;
    size_t i;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.g = g;
    run.backward = backward;
    run.w.context = call->context;
    run.w.from = backward ? call->output.gradient : call->input[0].value;
    run.w.to = backward ? call->input[0].gradient : call->output.value;
    run.w.height = backward ? g->out_height : g->height;
    run.w.width = backward ? g->out_width : g->width;
    run.w.out_height = backward ? g->height : g->out_height;
    run.w.out_width = backward ? g->width : g->out_width;
    run.w.top = backward ? 2 - g->top : g->top;
    run.w.left = backward ? 2 - g->left : g->left;
    run.w.channels = (size_t)(backward ? g->outputs : g->channels);
    run.w.outputs = (size_t)(backward ? g->channels : g->outputs);
    run.w.bias = !backward && call->input_count > 2 ? call->input[2].value : NULL;
    run.w.accumulate = backward && !call->input[0].fresh;
    run.zeros = call->workspace;
    run.v = run.zeros + largest;
    for (i = 0; i < largest; ++i) run.zeros[i] = 0;
    run.w.zeros = run.zeros;
    ft__winograd_tiles(&run.w, g->batch);
    return run;
}

static void ft__winograd_convolve(const ft__call *call, const ft__conv *g, bool backward)
{
    ft__context *c = call->context;
    ft__winograd_run run = ft__winograd_start(call, g, backward);
    ft__winograd *w = &run.w;
    bool local = ft__winograd_local(g), prepared = call->prepared && !backward;
    run.packed = prepared ? call->prepared : local ? run.v : NULL;
    if (run.packed == run.v)
        run.v += FT__TILE_INPUTS * ft__packed_right(c, w->outputs, w->channels);
    if (run.packed && (!prepared || call->prepare))
        ft__parallel(c, (int)ft__winograd_panels(w), ft__winograd_pack_panel, &run);
    w->chunk = ft__winograd_chunk(g, local);
    if (local) {
        run.slots = run.v;
        run.slot = ft__winograd_numbers(g) * w->chunk;
        ft__parallel(c, c->threads, ft__winograd_slot, &run);
        return;
    }
    run.m = run.v + FT__TILE_INPUTS * w->chunk * w->channels;
    run.slots = run.m + FT__TILE_INPUTS * w->chunk * w->outputs;
    run.slot = ft__winograd_part(c);
    for (w->first = 0; w->first < w->tiles; w->first += w->chunk) {
        int groups;
        w->count = ft__least_of(w->chunk, w->tiles - w->first);
        groups = (int)((w->count + 3) / 4);
        ft__parallel(c, groups, ft__winograd_shared_in, &run);
        ft__parallel(c, c->threads, ft__winograd_shared_products, &run);
        ft__parallel(c, groups, ft__winograd_shared_out, &run);
    }
}

/* ---- The weight's gradient in that form: sums over the tiles of v^T times the transformed dy,
   [36][channels][outputs], then back to kernels. Where these sums are larger than v and dy of all
   tiles, a thread makes some channels' of them and turns those back at once ("whole"); else they
   are summed over chunks of tiles and turned back at the end. ---- */
typedef struct ft__winograd_sum {
    ft__winograd_run run;
    float *d;               /* of dy: right matrices [36][panels][tiles][width] */
    float *sum;             /* [36][channels][outputs], unless whole */
    bool whole;
} ft__winograd_sum;

static bool ft__winograd_whole(const ft__conv *g)
{
    return ft__winograd_tile_count(g) * (size_t)(g->channels + g->outputs)
        <= (size_t)g->channels * (size_t)g->outputs;
}

static size_t ft__winograd_sum_chunk(const ft__conv *g)
{
    return ft__winograd_whole(g) ? ft__winograd_tile_count(g) : ft__winograd_chunk(g, false);
}

/* Channels that a thread works on at a time. */
static size_t ft__winograd_sum_rows(const ft__context *c)
{
    return 2 * ft__tiles[c->simd].rows;
}

static size_t ft__winograd_sum_slot_room(const ft__context *c, const ft__conv *g)
{
    size_t chunk = ft__winograd_sum_chunk(g), rows = ft__winograd_sum_rows(c);
    size_t room = rows * chunk + ft__pad_to(chunk * sizeof(void *) / sizeof(float), 16);
    if (ft__winograd_whole(g)) room += FT__TILE_INPUTS * rows * (size_t)g->outputs;
    return ft__pad_to(room, 16);
}

static size_t ft__winograd_sum_room(const ft__context *c, const ft__conv *g)
{
    size_t channels = (size_t)g->channels, outputs = (size_t)g->outputs;
    size_t numbers = FT__TILE_INPUTS * (channels + ft__packed_right(c, outputs, 1));
    size_t room = numbers * ft__winograd_sum_chunk(g)
        + (size_t)c->threads * ft__winograd_sum_slot_room(c, g);
    return room + (ft__winograd_whole(g) ? 0 : FT__TILE_INPUTS * channels * outputs);
}

static size_t ft__winograd_room(const ft__context *c, const ft__conv *g, bool training)
{
    size_t channels = (size_t)g->channels, outputs = (size_t)g->outputs, room;
    size_t numbers = ft__winograd_numbers(g), threads = (size_t)c->threads;
    if (ft__winograd_local(g))
        room = threads * numbers * ft__winograd_chunk(g, true)
            + FT__TILE_INPUTS * ft__largest_of(ft__packed_right(c, outputs, channels),
                                               ft__packed_right(c, channels, outputs));
    else room = numbers * ft__winograd_chunk(g, false) + threads * ft__winograd_part(c);
    if (training) room = ft__largest_of(room, ft__winograd_sum_room(c, g));
    return room + ft__pad_to(ft__largest_of(channels, outputs), 16);
}

/* Transforms x and dy of 4 tiles. */
static void ft__winograd_sum_in(void *context, int index)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    size_t at = 4 * (size_t)index, count = ft__least_of(4, w->count - at), i, picture, panel;
    size_t area = (size_t)w->out_height * (size_t)w->out_width;
    size_t packed = ft__packed_right(w->context, w->outputs, w->count);
    const float *square[FT__TILE_INPUTS];
    ft__winograd_tile t;
    int y, x, n;
    ft__winograd_inputs(w, w->first + at, count, s->run.v, at, w->chunk);
    memset(&t, 0, sizeof t);
    for (i = at; i < at + count; ++i) {
        ft__winograd_place(w, w->first + i, &picture, &y, &x);
        ft__winograd_square(s->run.call->output.gradient + picture * area * w->outputs,
                            w->out_height, w->out_width, w->outputs, y, x, 4, w->zeros, square);
        for (panel = 0; panel < ft__winograd_panels(w); ++panel) {
            ft__winograd_panel p = ft__winograd_panel_of(w, panel);
            t.channels = p.columns;
            for (n = 0; n < 16; ++n) t.from[n] = square[n] + p.column;
            for (n = 0; n < FT__TILE_INPUTS; ++n)
                t.to[n] = s->d + (size_t)n * packed + p.column * w->count + i * p.width;
            ft__winograds[w->context->simd].gradient(&t);
        }
    }
}

/* Turns sums of `rows` channels back into kernels and adds them to the gradient; `step` lies
   between two of the 36. */
static void ft__winograd_kernels(const ft__winograd_sum *s, const float *sum, size_t step,
                                 size_t channel, size_t rows)
{
    const ft__winograd *w = &s->run.w;
    size_t o, i, l, k = s->run.g->k;
    float g[9][16];
    ft__winograd_tile t;
    int n, tap;
    memset(&t, 0, sizeof t);
    t.channels = 16;
    for (tap = 0; tap < 9; ++tap) t.to[tap] = g[tap];
    for (i = 0; i < rows; ++i)
        for (o = 0; o < w->outputs; o += 16) {
            float *dw = s->run.call->input[1].gradient + o * k + (channel + i) * 9;
            for (n = 0; n < FT__TILE_INPUTS; ++n)
                t.from[n] = sum + (size_t)n * step + i * w->outputs + o;
            ft__winograds[w->context->simd].kernel(&t);
            for (l = 0; l < 16; ++l)
                for (tap = 0; tap < 9; ++tap) dw[l * k + (size_t)tap] += g[tap][l];
        }
}

/* A slot's scratch: packed rows of v^T, where they come from, and its own sums. */
typedef struct ft__winograd_scratch { float *packed, *own; const float **lines; }
    ft__winograd_scratch;

static ft__winograd_scratch ft__winograd_scratch_of(const ft__winograd_sum *s, int slot)
{
    size_t chunk = s->run.w.chunk, rows = ft__winograd_sum_rows(s->run.w.context);
    ft__winograd_scratch scratch;
    scratch.packed = s->run.slots + (size_t)slot * s->run.slot;
    scratch.lines = (const float **)(void *)(scratch.packed + rows * chunk);
    scratch.own = scratch.packed + rows * chunk
        + ft__pad_to(chunk * sizeof(void *) / sizeof(float), 16);
    return scratch;
}

/* Sums for number n of the 36, of some channels, over this chunk of tiles. */
static void ft__winograd_sum_unit(const ft__winograd_sum *s, ft__winograd_scratch scratch, size_t n,
                                  size_t row, size_t rows, float *sum)
{
    const ft__winograd *w = &s->run.w;
    const ft__tile_row *tile = &ft__tiles[w->context->simd];
    ft__conv_run run;
    size_t i;
    memset(&run, 0, sizeof run);
    run.g = *s->run.g;
    run.tile = tile;
    for (i = 0; i < w->count; ++i)
        scratch.lines[i] = s->run.v + (n * w->chunk + i) * w->channels;
    ft__pack_pixels(scratch.lines, w->count, row, rows, tile->rows, scratch.packed);
    ft__conv_weight_unit(&run, w->count, rows, scratch.packed,
                         s->d + n * ft__packed_right(w->context, w->outputs, w->count), sum,
                         w->first == 0);
}

/* Chunk by chunk, a slot makes whole sums for some of the 36. */
static void ft__winograd_sum_slot(void *context, int slot)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    ft__winograd_scratch scratch = ft__winograd_scratch_of(s, slot);
    size_t most = ft__winograd_sum_rows(w->context), n, row;
    for (n = (size_t)slot; n < FT__TILE_INPUTS; n += (size_t)w->context->threads)
        for (row = 0; row < w->channels; row += most)
            ft__winograd_sum_unit(s, scratch, n, row, ft__least_of(most, w->channels - row),
                                  s->sum + (n * w->channels + row) * w->outputs);
}

/* Over all tiles at once, a slot makes all 36 for some channels, and turns them back. */
static void ft__winograd_whole_slot(void *context, int slot)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    ft__winograd_scratch scratch = ft__winograd_scratch_of(s, slot);
    size_t most = ft__winograd_sum_rows(w->context), n, row = (size_t)slot * most;
    for (; row < w->channels; row += most * (size_t)w->context->threads) {
        size_t rows = ft__least_of(most, w->channels - row), step = rows * w->outputs;
        for (n = 0; n < FT__TILE_INPUTS; ++n)
            ft__winograd_sum_unit(s, scratch, n, row, rows, scratch.own + n * step);
        ft__winograd_kernels(s, scratch.own, step, row, rows);
    }
}

static void ft__winograd_sum_out(void *context, int index)
{
    const ft__winograd_sum *s = (const ft__winograd_sum *)context;
    const ft__winograd *w = &s->run.w;
    size_t row = 8 * (size_t)index;
    ft__winograd_kernels(s, s->sum + row * w->outputs, w->channels * w->outputs, row,
                         ft__least_of(8, w->channels - row));
}

static void ft__winograd_weight_gradient(const ft__call *call, const ft__conv *g)
{
    ft__context *c = call->context;
    ft__winograd_sum s;
    ft__winograd *w = &s.run.w;
    s.run = ft__winograd_start(call, g, false);
    s.whole = ft__winograd_whole(g);
    w->chunk = ft__winograd_sum_chunk(g);
    s.d = s.run.v + FT__TILE_INPUTS * w->chunk * w->channels;
    s.sum = s.d + FT__TILE_INPUTS * ft__packed_right(c, w->outputs, w->chunk);
    s.run.slots = s.sum + (s.whole ? 0 : FT__TILE_INPUTS * w->channels * w->outputs);
    s.run.slot = ft__winograd_sum_slot_room(c, g);
    for (w->first = 0; w->first < w->tiles; w->first += w->chunk) {
        w->count = ft__least_of(w->chunk, w->tiles - w->first);
        ft__parallel(c, (int)((w->count + 3) / 4), ft__winograd_sum_in, &s);
        ft__parallel(c, c->threads, s.whole ? ft__winograd_whole_slot : ft__winograd_sum_slot, &s);
    }
    if (!s.whole) ft__parallel(c, (int)((w->channels + 7) / 8), ft__winograd_sum_out, &s);
}

/* ---- Which form ---- */

static void ft__conv2d_costs(const ft__call *call, ft__costs *costs)
{
    ft__conv g = ft__conv_of_call(call);
    ft__conv_room room = ft__conv_room_of(call->context, &g, call->training);
    size_t numbers = room.shared + room.zeros + room.lists
        + (size_t)call->context->threads * room.slot;
    costs->prepared = g.groups * ft__packed_right(call->context, (size_t)g.outputs, g.k);
    if (ft__conv_is_depthwise(&g)) {
        numbers = ft__depthwise_room(&g, call->training);
        costs->prepared = ft__depthwise_room(&g, false);
    } else if (ft__winograd_fits(&g)) {
        numbers = ft__winograd_room(call->context, &g, call->training);
        costs->prepared = ft__winograd_packed(call->context, &g);
    }
    costs->prepared *= sizeof(float);
    costs->workspace = numbers * sizeof(float);
    costs->multiply_adds = (uint64_t)ft__count(&call->output) * g.k;
}

static void ft__conv2d_forward(const ft__call *call)
{
    ft__conv g = ft__conv_of_call(call);
    if (ft__conv_is_depthwise(&g)) ft__depthwise_forward(call, &g);
    else if (ft__winograd_fits(&g)) ft__winograd_convolve(call, &g, false);
    else ft__conv_forward(call, &g);
}

static void ft__conv2d_backward(const ft__call *call)
{
    ft__conv g = ft__conv_of_call(call);
    ft__conv_run run;
    if (call->input_count > 2 && call->input[2].gradient)
        ft__add_column_sums(call->context, call->output.gradient, g.batch * g.p,
                            g.groups * (size_t)g.outputs, call->input[2].gradient);
    if (ft__conv_is_depthwise(&g)) ft__depthwise_backward(call, &g);
    else if (ft__winograd_fits(&g)) {
        if (call->input[1].gradient) ft__winograd_weight_gradient(call, &g);
        if (call->input[0].gradient) ft__winograd_convolve(call, &g, true);
    } else {
        run = ft__conv_start(call, &g);
        if (call->input[1].gradient) ft__conv_weight_gradient(&run);
        if (call->input[0].gradient) ft__conv_input_gradient(&run);
    }
}

/* =============================================================================================
   [SECTION] 8.2.2 Convolution in one dimension
   x [N, C, L], weight [O, C/groups, K]: what conv2d does with [N, C, 1, L] and [O, C/groups, 1, K],
   so that it is called, on copies of x and y that have the channels last as it wants them.
   ============================================================================================= */

/* The tensor with a height of 1; [N, C, L] and its copy's place in the workspace. */
static ft__tensor ft__as_picture(const ft__tensor *t, float *value, float *gradient)
{
    ft__tensor picture = *t;
    picture.shape.rank = 4;
    picture.shape.size[3] = t->shape.size[2];
    picture.shape.size[2] = 1;
    picture.channels_last = value != NULL;
    if (value) picture.value = value;
    if (value) picture.gradient = gradient;
    return picture;
}

/* The call that conv2d gets; `input` has room for three. Workspace: x, dx, y, dy, then conv2d's. */
static ft__call ft__conv1d_as_conv2d(const ft__call *call, ft__tensor *input)
{
    size_t x = ft__count(&call->input[0]), y = ft__count(&call->output);
    float *at = call->workspace;
    ft__call flat = *call;
    input[0] = ft__as_picture(&call->input[0], at, call->input[0].gradient ? at + x : NULL);
    input[0].channels_last = input[0].fresh = true;
    input[1] = ft__as_picture(&call->input[1], NULL, NULL);
    if (call->input_count > 2) input[2] = call->input[2];
    flat.input = input;
    flat.output = ft__as_picture(&call->output, at ? at + 2 * x : NULL,
                                 at ? at + 2 * x + y : NULL);
    flat.workspace = at ? at + 2 * (x + y) : NULL;
    return flat;
}

/* The length may be FT_LENGTH where the output is as long as the input: stride 1, and padding that
   makes up for the kernel. */
static ft_status ft__conv1d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_conv2d_options *o = &node->options.conv2d;
    ft__tensor flat[3];
    bool run_time;
    int i, dilation = ft__or_one(o->dilation, 1);
    char text[80], other[80];
    *output = input[0].shape;
    if (input[0].shape.rank != 3 || input[1].shape.rank != 3)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, C, L] and a weight of 3 dimensions, has %s and"
                        " %s", node->name, ft__shape_text(&input[0].shape, text),
                        ft__shape_text(&input[1].shape, other));
    run_time = input[0].shape.size[2] == FT_LENGTH;
    if (run_time && (ft__or_one(o->stride, 1) != 1
                     || (!o->same && o->padding[1] + o->padding[3]
                                     != dilation * (input[1].shape.size[2] - 1))))
        return ft__fail(c, FT_SHAPE, "%s: over a run-time length the output must be as long as the"
                        " input: stride 1, and padding that adds up to dilation * (kernel - 1)",
                        node->name);
    for (i = 0; i < input_count && i < 3; ++i)
        flat[i] = i < 2 ? ft__as_picture(&input[i], NULL, NULL) : input[i];
    if (run_time) flat[0].shape.size[3] = 1 << 20;
    if (ft__conv2d_shape(c, node, flat, input_count, output) != FT_OK) return c->status;
    output->size[2] = run_time ? FT_LENGTH : output->size[3];
    output->size[3] = 0;
    output->rank = 3;
    return FT_OK;
}

static void ft__conv1d_costs(const ft__call *call, ft__costs *costs)
{
    ft__tensor input[3];
    ft__call flat = *call;
    flat.workspace = NULL;
    flat = ft__conv1d_as_conv2d(&flat, input);
    ft__conv2d_costs(&flat, costs);
    costs->workspace += 2 * (ft__count(&call->input[0]) + ft__count(&call->output))
        * sizeof(float);
}

static void ft__conv1d_forward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__turn(call->context, &input[0].shape, FT__TO_LAST, call->input[0].value, input[0].value,
             false);
    ft__conv2d_forward(&flat);
    ft__turn(call->context, &flat.output.shape, FT__TO_FIRST, flat.output.value,
             call->output.value, false);
}

static void ft__conv1d_backward(const ft__call *call)
{
    ft__tensor input[3];
    ft__call flat = ft__conv1d_as_conv2d(call, input);
    ft__turn(call->context, &input[0].shape, FT__TO_LAST, call->input[0].value, input[0].value,
             false);
    ft__turn(call->context, &flat.output.shape, FT__TO_LAST, call->output.gradient,
             flat.output.gradient, false);
    ft__conv2d_backward(&flat);
    if (call->input[0].gradient)
        ft__turn(call->context, &input[0].shape, FT__TO_FIRST, input[0].gradient,
                 call->input[0].gradient, !call->input[0].fresh);
}

/* =============================================================================================
   [SECTION] 8.3 Linear
   x [..., in], weight [out, in], bias [out]: y = x weight^T + bias
   dx = dy weight, dweight = dy^T x, dbias = sum of dy over the rows
   ============================================================================================= */
static ft_status ft__linear_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *w = &input[1].shape;
    char text[80], other[80];
    *output = *x;
    if (x->rank < 2 || w->rank != 2 || x->size[x->rank - 1] != w->size[1])
        return ft__fail(c, FT_SHAPE, "%s: input %s does not fit weight %s", node->name,
                        ft__shape_text(x, text), ft__shape_text(w, other));
    if (input_count > 2 && (input[2].shape.rank != 1 || input[2].shape.size[0] != w->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: bias %s does not fit weight %s", node->name,
                        ft__shape_text(&input[2].shape, text), ft__shape_text(w, other));
    output->size[x->rank - 1] = w->size[0];
    return ft__want_numbers(c, node, input, input_count);
}

/* Forward and dx are those of a 1x1 convolution over rows instead of pixels. */
static ft__conv ft__linear_size(const ft__call *call)
{
    ft__conv g;
    memset(&g, 0, sizeof g);
    g.outputs = call->input[1].shape.size[0];
    g.channels = call->input[1].shape.size[1];
    g.batch = ft__count(&call->output) / (size_t)g.outputs;
    g.groups = g.k = g.p = 1;
    g.k = (size_t)g.channels;
    g.height = g.width = g.out_height = g.out_width = 1;
    g.kernel[0] = g.kernel[1] = g.stride[0] = g.stride[1] = g.dilation[0] = g.dilation[1] = 1;
    return g;
}

static void ft__linear_costs(const ft__call *call, ft__costs *costs)
{
    ft__conv g = ft__linear_size(call);
    size_t rows = g.batch, in = (size_t)g.channels, out = (size_t)g.outputs;
    ft__conv_room room = ft__conv_room_of(call->context, &g, call->training);
    size_t numbers = room.shared + room.zeros + room.lists
        + (size_t)call->context->threads * room.slot;
    if (call->training)
        numbers = ft__largest_of(numbers, ft__gemm_workspace(call->context, rows));
    if (call->input[0].shape.rank == 4) numbers += 2 * rows * (in + out);
    costs->workspace = numbers * sizeof(float);
    costs->prepared = ft__packed_right(call->context, out, in) * sizeof(float);
    costs->multiply_adds = (uint64_t)rows * in * out;
}

static void ft__linear_forward_rows(const ft__call *call)
{
    ft__conv g = ft__linear_size(call);
    ft__conv_forward(call, &g);
}

static void ft__linear_backward_rows(const ft__call *call)
{
    ft__conv g = ft__linear_size(call);
    size_t in = (size_t)g.channels, out = (size_t)g.outputs;
    if (call->input[1].gradient)
        ft__gemm_parallel(call->context, out, in, g.batch,
                          ft__transposed(ft__rows_of(call->output.gradient, out)),
                          ft__rows_of(call->input[0].value, in), call->input[1].gradient, in, true,
                          call->workspace);
    if (call->input[0].gradient) {
        ft__conv_run run = ft__conv_start(call, &g);
        ft__conv_input_gradient(&run);
    }
    if (call->input_count > 2 && call->input[2].gradient)
        ft__add_column_sums(call->context, call->output.gradient, g.batch, out,
                            call->input[2].gradient);
}

/* A tensor [N, C, H, W] that lies channels last is turned first, and what comes out is turned back:
   linear sums over W. */
static void ft__linear_turned(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    size_t in = ft__count(x), out = ft__count(y), i;
    ft__call turned = *call;
    ft__tensor input[3];
    for (i = 0; i < (size_t)call->input_count; ++i) input[i] = call->input[i];
    turned.input = input;
    input[0].value = call->workspace;
    input[0].gradient = x->gradient ? input[0].value + in : NULL;
    turned.output.value = input[0].value + 2 * in;
    turned.output.gradient = turned.output.value + out;
    turned.workspace = turned.output.gradient + out;
    ft__turn(call->context, &x->shape, FT__TO_FIRST, x->value, input[0].value, false);
    if (!backward) {
        ft__linear_forward_rows(&turned);
        ft__turn(call->context, &y->shape, FT__TO_LAST, turned.output.value, y->value, false);
        return;
    }
    ft__turn(call->context, &y->shape, FT__TO_FIRST, y->gradient, turned.output.gradient, false);
    input[0].fresh = true;
    ft__linear_backward_rows(&turned);
    if (x->gradient)
        ft__turn(call->context, &x->shape, FT__TO_LAST, input[0].gradient, x->gradient, !x->fresh);
}

static void ft__linear_forward(const ft__call *call)
{
    if (call->input[0].channels_last) ft__linear_turned(call, false);
    else ft__linear_forward_rows(call);
}

static void ft__linear_backward(const ft__call *call)
{
    if (call->input[0].channels_last) ft__linear_turned(call, true);
    else ft__linear_backward_rows(call);
}

/* =============================================================================================
   [SECTION] 8.4 Normalisation
   Batch norm (Ioffe and Szegedy 2015) as PyTorch has it: x [N, C] or [N, C, H, W]; inputs x,
   weight, bias, running_mean, running_var; in memory that is [rows, C] either way. In training each
   channel is normalised by the batch's mean and biased variance, and the running ones move towards
   the batch's (unbiased) ones:
       y = (x - mean) * scale + bias, scale = weight / sqrt(var + eps)
   Backward in training, over the n values of a channel, with h = (x - mean) / sqrt(var + eps):
       dx = scale * (dy - sum(dy) / n - h * sum(dy h) / n), dweight = sum(dy h), dbias = sum(dy)
   and in evaluation form, where mean and variance are constants, dx = scale * dy.
   ============================================================================================= */
static const ft__field ft__batch_norm_fields[] = {
    {"eps", offsetof(ft_batch_norm_options, eps), 1, 'f'},
    {"momentum", offsetof(ft_batch_norm_options, momentum), 1, 'f'}, {NULL, 0, 0, 0}};

static ft_status ft__batch_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    *output = *x;
    if (x->rank != 2 && x->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, C] or [N, C, H, W], its input is %s",
                        node->name, ft__shape_text(x, text));
    for (i = 1; i < 5; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != x->size[1])
            return ft__fail(c, FT_SHAPE, "%s: input has %d channels, parameter %d is %s",
                            node->name, x->size[1], i, ft__shape_text(&input[i].shape, text));
    if (!(node->options.batch_norm.eps >= 0) || !(node->options.batch_norm.momentum >= 0)
        || node->options.batch_norm.momentum > 1)
        return ft__fail(c, FT_INVALID, "%s: eps %g, wants 0 or more; momentum %g, wants 0 to 1",
                        node->name, (double)node->options.batch_norm.eps,
                        (double)node->options.batch_norm.momentum);
    return ft__want_numbers(c, node, input, input_count);
}

/* ---- Statistics: of blocks of rows first, which a thread's cache holds; then the blocks' in
   order, in double (Chan, Golub and LeVeque 1979) ---- */
#define FT__NORM_BLOCK ((size_t)8192) /* numbers of a block */

typedef struct ft__norm_size { size_t rows, channels, block, blocks; } ft__norm_size;

static ft__norm_size ft__norm_size_of(const ft__tensor *x)
{
    ft__norm_size s;
    s.channels = (size_t)x->shape.size[1];
    s.rows = ft__count(x) / s.channels;
    s.block = FT__NORM_BLOCK / s.channels;
    if (s.block < 16) s.block = 16;
    s.blocks = (s.rows + s.block - 1) / s.block;
    return s;
}

/* Kept from forward: mean and 1 / sqrt(var + eps) of each channel. Scratch: two numbers a block and
   channel, and what the last pass multiplies and adds. */
static void ft__batch_norm_costs(const ft__call *call, ft__costs *costs)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    costs->saved = 2 * s.channels * sizeof(float);
    costs->workspace = (2 * s.blocks + 3) * s.channels * sizeof(float);
    costs->multiply_adds = ft__count(&call->output);
}

typedef struct ft__norm_run { const ft__call *call; ft__norm_size s; float *sums, *pass; }
    ft__norm_run;

static ft__norm_run ft__norm_start(const ft__call *call)
{
    ft__norm_run run;
    run.call = call;
    run.s = ft__norm_size_of(&call->input[0]);
    run.sums = call->workspace;
    run.pass = run.sums + 2 * run.s.blocks * run.s.channels;
    return run;
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

/* What one pass over rows [count, channels] reads and writes. */
typedef struct ft__norm_pass {
    const float *x, *dy, *mean;
    const float *a, *b, *c;     /* y = (x - mean) a + b;  dx = or += dy a + (x - mean) b + c */
    const float *bias;          /* backward: dy counts where low < (x - mean) a + bias < high */
    float low, high;
    float *out, *first, *second;
    size_t count, channels;
    bool fresh;
} ft__norm_pass;

/* first = mean of a block, second = sum of (x - mean)^2: the sum of the differences corrects the
   mean's own rounding. */
FT__INLINE void ft__norm_block_lanes(const ft__norm_pass *p, size_t at, int lanes)
{
    float sum[32], rest[32], squares[32], count = (float)p->count;
    size_t r;
    int l;
    for (l = 0; l < lanes; ++l) sum[l] = rest[l] = squares[l] = 0;
    for (r = 0; r < p->count; ++r)
        for (l = 0; l < lanes; ++l) sum[l] += p->x[r * p->channels + at + (size_t)l];
    for (l = 0; l < lanes; ++l) sum[l] /= count;
    for (r = 0; r < p->count; ++r)
        for (l = 0; l < lanes; ++l) {
            float d = p->x[r * p->channels + at + (size_t)l] - sum[l];
            rest[l] += d;
            squares[l] += d * d;
        }
    for (l = 0; l < lanes; ++l) {
        p->first[at + (size_t)l] = sum[l] + rest[l] / count;
        p->second[at + (size_t)l] = squares[l] - rest[l] * (rest[l] / count);
    }
}

/* first = sum of dy, second = sum of dy (x - mean) */
FT__INLINE void ft__norm_products_lanes(const ft__norm_pass *p, size_t at, int lanes)
{
    float sum[32], products[32], mean[32], a[32], bias[32], low = p->low, high = p->high;
    size_t r;
    int l;
    for (l = 0; l < lanes; ++l) {
        sum[l] = products[l] = 0;
        mean[l] = p->mean[at + (size_t)l];
        a[l] = p->a[at + (size_t)l];
        bias[l] = p->bias[at + (size_t)l];
    }
    for (r = 0; r < p->count; ++r)
        for (l = 0; l < lanes; ++l) {
            float dy = p->dy[r * p->channels + at + (size_t)l];
            float d = p->x[r * p->channels + at + (size_t)l] - mean[l], y = d * a[l] + bias[l];
            dy = ft__choose(y > low, ft__choose(y < high, dy, 0.0f), 0.0f);
            sum[l] += dy;
            products[l] += dy * d;
        }
    for (l = 0; l < lanes; ++l) {
        p->first[at + (size_t)l] = sum[l];
        p->second[at + (size_t)l] = products[l];
    }
}

#define FT__NORM_LANES(name)                                                                      \
    size_t at = 0;                                                                                \
    for (; at + 32 <= p->channels; at += 32) name(p, at, 32);                                     \
    for (; at + 16 <= p->channels; at += 16) name(p, at, 16);                                     \
    for (; at + 8 <= p->channels; at += 8) name(p, at, 8);                                        \
    for (; at < p->channels; ++at) name(p, at, 1)

FT__INLINE void ft__norm_apply_body(const ft__norm_pass *p)
{
    const float *FT__RESTRICT mean = p->mean, *FT__RESTRICT a = p->a, *FT__RESTRICT b = p->b;
    size_t r, l;
    for (r = 0; r < p->count; ++r) {
        const float *x = p->x + r * p->channels;
        float *FT__RESTRICT out = p->out + r * p->channels;
        for (l = 0; l < p->channels; ++l) out[l] = (x[l] - mean[l]) * a[l] + b[l];
    }
}

/* `out` may be dy itself: a stretch is read before any of it is written. */
FT__INLINE void ft__norm_back_lanes(const ft__norm_pass *p, size_t at, int lanes)
{
    float mean[32], a[32], b[32], c[32], bias[32], dx[32], low = p->low, high = p->high;
    size_t r;
    int l;
    for (l = 0; l < lanes; ++l) {
        mean[l] = p->mean[at + (size_t)l];
        a[l] = p->a[at + (size_t)l];
        b[l] = p->b[at + (size_t)l];
        c[l] = p->c[at + (size_t)l];
        bias[l] = p->bias[at + (size_t)l];
    }
    for (r = 0; r < p->count; ++r) {
        const float *x = p->x + r * p->channels + at, *dy = p->dy + r * p->channels + at;
        float *out = p->out + r * p->channels + at;
        for (l = 0; l < lanes; ++l) {
            float d = x[l] - mean[l], y = d * a[l] + bias[l];
            float g = ft__choose(y > low, ft__choose(y < high, dy[l], 0.0f), 0.0f);
            dx[l] = g * a[l] + (d * b[l] + c[l]);
        }
        if (!p->fresh) for (l = 0; l < lanes; ++l) dx[l] += out[l];
        for (l = 0; l < lanes; ++l) out[l] = dx[l];
    }
}

FT__LEVELS(ft__norm_block, (const ft__norm_pass *p), FT__NORM_LANES(ft__norm_block_lanes))
FT__LEVELS(ft__norm_products, (const ft__norm_pass *p), FT__NORM_LANES(ft__norm_products_lanes))
FT__LEVELS(ft__norm_apply, (const ft__norm_pass *p), ft__norm_apply_body(p))
FT__LEVELS(ft__norm_back, (const ft__norm_pass *p), FT__NORM_LANES(ft__norm_back_lanes))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

static ft__norm_pass ft__norm_pass_of(const ft__norm_run *run, int index)
{
    const ft__call *call = run->call;
    size_t row = (size_t)index * run->s.block, at = row * run->s.channels;
    ft__norm_pass p;
    memset(&p, 0, sizeof p);
    p.channels = run->s.channels;
    p.count = run->s.rows - row < run->s.block ? run->s.rows - row : run->s.block;
    p.x = call->input[0].value + at;
    p.first = run->sums + 2 * (size_t)index * run->s.channels;
    p.second = p.first + run->s.channels;
    p.bias = call->input[2].value;
    p.low = call->fused == FT__OP_relu || call->fused == FT__OP_relu6 ? 0 : -FLT_MAX;
    p.high = call->fused == FT__OP_relu6 ? 6 : FLT_MAX;
    return p;
}

static void ft__norm_statistics_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    ft__norm_block[run->call->context->simd](&p);
}

/* Mean and biased variance of a channel, from the blocks'. */
static void ft__channel_statistics(const ft__norm_run *run, size_t channel, double *mean,
                                   double *variance)
{
    const ft__norm_size *s = &run->s;
    double count = 0, squares = 0;
    size_t i;
    *mean = 0;
    for (i = 0; i < s->blocks; ++i) {
        const float *block = run->sums + 2 * i * s->channels + channel;
        size_t begin = i * s->block;
        double more = (double)(s->rows - begin < s->block ? s->rows - begin : s->block);
        double apart = (double)block[0] - *mean;
        squares += (double)block[s->channels] + apart * apart * count * more / (count + more);
        *mean += apart * more / (count + more);
        count += more;
    }
    *variance = squares / count;
}

/* The running statistics move only by finite ones: a batch that ran away must not spoil them. One
   value has no variance: running_var then stays. */
static void ft__move_running(const ft__call *call, size_t channel, double mean, double variance,
                             double count)
{
    float momentum = call->node->options.batch_norm.momentum;
    float *running_mean = call->input[3].value + channel;
    float *running_var = call->input[4].value + channel;
    if (momentum == 0) momentum = 0.1f;
    if (!(fabs(mean) < 1e30) || !(variance < 1e30)) return;
    *running_mean = (1 - momentum) * *running_mean + momentum * (float)mean;
    if (count > 1) *running_var = (1 - momentum) * *running_var
        + momentum * (float)(variance * count / (count - 1));
}

static void ft__batch_norm_apply_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    size_t at = (size_t)(p.x - run->call->input[0].value);
    p.mean = run->pass;
    p.a = p.mean + p.channels;
    p.b = p.a + p.channels;
    p.out = run->call->output.value + at;
    ft__norm_apply[run->call->context->simd](&p);
    if (run->call->fused)
        ft__activate(run->call->fused, run->call->fused_options, p.out, p.count * p.channels);
}

static void ft__batch_norm_forward(const ft__call *call)
{
    ft__norm_run run = ft__norm_start(call);
    float eps = call->node->options.batch_norm.eps, *saved = (float *)call->saved;
    size_t channels = run.s.channels, c;
    if (eps == 0) eps = 1e-5f;
    if (call->training)
        ft__parallel(call->context, (int)run.s.blocks, ft__norm_statistics_block, &run);
    for (c = 0; c < channels; ++c) {
        double mean = (double)call->input[3].value[c], variance = (double)call->input[4].value[c];
        float inverse;
        if (call->training) {
            ft__channel_statistics(&run, c, &mean, &variance);
            ft__move_running(call, c, mean, variance, (double)run.s.rows);
        }
        inverse = (float)(1 / sqrt(variance + (double)eps));
        if (saved) {
            saved[c] = (float)mean;
            saved[channels + c] = inverse;
        }
        run.pass[c] = (float)mean;
        run.pass[channels + c] = inverse * call->input[1].value[c];
        run.pass[2 * channels + c] = call->input[2].value[c];
    }
    ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_apply_block, &run);
}

static void ft__batch_norm_sums_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    p.dy = run->call->output.gradient + (p.x - run->call->input[0].value);
    p.mean = (const float *)run->call->saved;
    p.a = run->pass;
    ft__norm_products[run->call->context->simd](&p);
}

static void ft__batch_norm_back_block(void *context, int index)
{
    const ft__norm_run *run = (const ft__norm_run *)context;
    ft__norm_pass p = ft__norm_pass_of(run, index);
    size_t at = (size_t)(p.x - run->call->input[0].value);
    p.dy = run->call->output.gradient + at;
    p.mean = (const float *)run->call->saved;
    p.a = run->pass;
    p.b = p.a + p.channels;
    p.c = p.b + p.channels;
    p.out = run->call->input[0].gradient + at;
    p.fresh = run->call->input[0].fresh;
    ft__norm_back[run->call->context->simd](&p);
}

static void ft__batch_norm_backward(const ft__call *call)
{
    ft__norm_run run = ft__norm_start(call);
    const float *saved = (const float *)call->saved;
    size_t channels = run.s.channels, c, i;
    double count = (double)run.s.rows;
    for (c = 0; c < channels; ++c) run.pass[c] = saved[channels + c] * call->input[1].value[c];
    ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_sums_block, &run);
    for (c = 0; c < channels; ++c) {
        float inverse = saved[channels + c], scale = inverse * call->input[1].value[c];
        double sum = 0, sum_h = 0;
        for (i = 0; i < run.s.blocks; ++i) {
            sum += (double)run.sums[2 * i * channels + c];
            sum_h += (double)run.sums[(2 * i + 1) * channels + c] * (double)inverse;
        }
        if (call->input[1].gradient) call->input[1].gradient[c] += (float)sum_h;
        if (call->input[2].gradient) call->input[2].gradient[c] += (float)sum;
        run.pass[channels + c] = call->training ? -scale * inverse * (float)(sum_h / count) : 0;
        run.pass[2 * channels + c] = call->training ? -scale * (float)(sum / count) : 0;
    }
    if (call->input[0].gradient)
        ft__parallel(call->context, (int)run.s.blocks, ft__batch_norm_back_block, &run);
}

/* =============================================================================================
   [SECTION] 8.4.1 Layer normalisation
   x [..., D]: y = h * weight + bias, h = (x - mean) * r, r = 1 / sqrt(var + eps), mean and variance
   over the last dimension of each row (Ba, Kiros and Hinton 2016). With g = dy * weight:
       dx = r * (g - mean(g) - h * mean(g h)),  dweight = sum of dy h,  dbias = sum of dy
   Kept from forward: mean and r of each row.
   ============================================================================================= */
static const ft__field ft__layer_norm_fields[] = {
    {"eps", offsetof(ft_layer_norm_options, eps), 1, 'f'}, {NULL, 0, 0, 0}};

static ft_status ft__layer_norm_shape(ft__context *c, const ft__node *node,
                                      const ft__tensor *input, int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    *output = *x;
    if (x->rank < 2 || x->size[x->rank - 1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: wants [..., D] with a fixed D, has %s", node->name,
                        ft__shape_text(x, text));
    for (i = 1; i < input_count; ++i)
        if (input[i].shape.rank != 1 || input[i].shape.size[0] != x->size[x->rank - 1])
            return ft__fail(c, FT_SHAPE, "%s: %s does not fit rows of %d", node->name,
                            ft__shape_text(&input[i].shape, text), x->size[x->rank - 1]);
    return ft__want_numbers(c, node, input, input_count);
}

/* Rows in memory: neighbours of a row stand `inner` apart, and so many rows are interleaved (1,
   but for tensors with the channels last). */
static ft__axis ft__layer_norm_rows(const ft__call *call)
{
    ft_shape shape = ft__memory_shape(&call->input[0]);
    return ft__split_axis(&shape, ft__memory_axis(&call->input[0], shape.rank - 1));
}

enum { FT__NORM_ROWS = 16 }; /* rows to a task; their sums for dweight and dbias are one partial */

static size_t ft__layer_norm_tasks(const ft__axis *a)
{
    return (a->outer * a->inner + FT__NORM_ROWS - 1) / FT__NORM_ROWS;
}

static void ft__layer_norm_costs(const ft__call *call, ft__costs *costs)
{
    ft__axis a = ft__layer_norm_rows(call);
    costs->saved = 2 * a.outer * a.inner * sizeof(float);
    costs->workspace = call->training ? 2 * ft__layer_norm_tasks(&a) * a.size * sizeof(float) : 0;
}

static void ft__layer_norm_forward_rows(void *context, int task)
{
    const ft__call *call = (const ft__call *)context;
    ft__axis a = ft__layer_norm_rows(call);
    float eps = call->node->options.layer_norm.eps > 0 ? call->node->options.layer_norm.eps
                                                       : 1e-5f;
    const float *weight = call->input[1].value, *bias = call->input[2].value;
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS, i;
    if (end > a.outer * a.inner) end = a.outer * a.inner;
    for (; row < end; ++row) {
        size_t at = row / a.inner * a.size * a.inner + row % a.inner;
        const float *x = call->input[0].value + at;
        float *y = call->output.value + at, *saved = (float *)call->saved + 2 * row, r;
        double sum = 0, squares = 0, mean;
        for (i = 0; i < a.size; ++i) sum += (double)x[i * a.inner];
        mean = sum / (double)a.size;
        for (i = 0; i < a.size; ++i) {
            double d = (double)x[i * a.inner] - mean;
            squares += d * d;
        }
        r = (float)(1 / sqrt(squares / (double)a.size + (double)eps));
        saved[0] = (float)mean;
        saved[1] = r;
        for (i = 0; i < a.size; ++i)
            y[i * a.inner] = (x[i * a.inner] - (float)mean) * r * weight[i] + bias[i];
    }
}

static void ft__layer_norm_forward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    ft__parallel(call->context, (int)ft__layer_norm_tasks(&a), ft__layer_norm_forward_rows,
                 (void *)(uintptr_t)call);
}

/* dx of a task's rows, and their part of dweight and dbias. */
static void ft__layer_norm_backward_rows(void *context, int task)
{
    const ft__call *call = (const ft__call *)context;
    ft__axis a = ft__layer_norm_rows(call);
    const float *weight = call->input[1].value;
    float *parts = call->workspace + 2 * (size_t)task * a.size;
    size_t row = (size_t)task * FT__NORM_ROWS, end = row + FT__NORM_ROWS, i;
    if (end > a.outer * a.inner) end = a.outer * a.inner;
    memset(parts, 0, 2 * a.size * sizeof *parts);
    for (; row < end; ++row) {
        size_t at = row / a.inner * a.size * a.inner + row % a.inner;
        const float *x = call->input[0].value + at, *dy = call->output.gradient + at;
        const float *saved = (const float *)call->saved + 2 * row;
        float mean = saved[0], r = saved[1], mean_g, mean_gh;
        double sum_g = 0, sum_gh = 0;
        for (i = 0; i < a.size; ++i) {
            float h = (x[i * a.inner] - mean) * r, g = dy[i * a.inner] * weight[i];
            sum_g += (double)g;
            sum_gh += (double)(g * h);
            parts[i] += dy[i * a.inner] * h;
            parts[a.size + i] += dy[i * a.inner];
        }
        if (!call->input[0].gradient) continue;
        mean_g = (float)(sum_g / (double)a.size);
        mean_gh = (float)(sum_gh / (double)a.size);
        for (i = 0; i < a.size; ++i) {
            float h = (x[i * a.inner] - mean) * r, g = dy[i * a.inner] * weight[i];
            float *dx = call->input[0].gradient + at + i * a.inner;
            *dx = (call->input[0].fresh ? 0 : *dx) + r * (g - mean_g - h * mean_gh);
        }
    }
}

static void ft__layer_norm_backward(const ft__call *call)
{
    ft__axis a = ft__layer_norm_rows(call);
    size_t tasks = ft__layer_norm_tasks(&a), task, i;
    int which;
    ft__parallel(call->context, (int)tasks, ft__layer_norm_backward_rows,
                 (void *)(uintptr_t)call);
    for (which = 0; which < 2; ++which) {
        const ft__tensor *t = &call->input[1 + which];
        if (!t->gradient) continue;
        if (t->fresh) memset(t->gradient, 0, a.size * sizeof(float));
        for (task = 0; task < tasks; ++task)
            for (i = 0; i < a.size; ++i)
                t->gradient[i] += call->workspace[(2 * task + (size_t)which) * a.size + i];
    }
}

/* =============================================================================================
   [SECTION] 8.5 Pooling
   Windows over [N, C, H, W], a pixel's channels together in memory; forward is parted by lines of
   the output, backward by pictures, for windows may overlap.
   ============================================================================================= */
static const ft__field ft__pool2d_fields[] = {
    {"kernel", offsetof(ft_pool2d_options, kernel), 2, 'i'},
    {"stride", offsetof(ft_pool2d_options, stride), 2, 'i'},
    {"padding", offsetof(ft_pool2d_options, padding), 4, 'i'},
    {"same", offsetof(ft_pool2d_options, same), 1, 'b'},
    {"ceil_mode", offsetof(ft_pool2d_options, ceil_mode), 1, 'b'},
    {"exclude_padding", offsetof(ft_pool2d_options, exclude_padding), 1, 'b'},
    {NULL, 0, 0, 0}};

/* One direction (0 height, 1 width) of a window that slides: sizes with defaults filled in. `out`
   is 0 when nothing fits. */
typedef struct ft__window { int in, out, kernel, stride, before, after; } ft__window;

static ft__window ft__pool_window(const ft_pool2d_options *o, const ft_shape *x, int direction)
{
    ft__window w;
    bool uniform = !o->padding[1] && !o->padding[2] && !o->padding[3];
    int64_t out, total;
    w.in = x->size[2 + direction];
    w.kernel = direction && o->kernel[1] ? o->kernel[1] : o->kernel[0];
    w.stride = direction && o->stride[1] ? o->stride[1] : o->stride[0];
    if (w.stride == 0) w.stride = w.kernel;
    w.before = o->padding[uniform ? 0 : direction]; /* top, left, bottom, right */
    w.after = o->padding[uniform ? 0 : 2 + direction];
    w.out = 0;
    if (w.in < 1 || w.kernel < 1 || w.stride < 1 || w.before < 0 || w.after < 0) return w;
    if (o->same) {
        out = ((int64_t)w.in + w.stride - 1) / w.stride;
        total = (out - 1) * w.stride + w.kernel - w.in;
        w.before = total > 0 ? (int)(total / 2) : 0;
        w.after = total > 0 ? (int)(total - total / 2) : 0;
    } else {
        total = (int64_t)w.in + w.before + w.after - w.kernel;
        if (total < 0) return w;
        out = total / w.stride + 1;
        /* PyTorch: a last window that is not whole counts if it starts inside or before. */
        if (o->ceil_mode && total % w.stride != 0 && out * w.stride < (int64_t)w.in + w.before)
            out += 1;
    }
    w.out = (int)out;
    return w;
}

/* Sizes that keep every sum and product of them within an int: files can hold any. */
static ft_status ft__pool2d_check(ft__context *c, const ft__node *node, const ft_shape *x)
{
    const ft_pool2d_options *o = &node->options.pool2d;
    const int most = 1 << 20;
    int i;
    for (i = 0; i < 4; ++i)
        if (o->kernel[i % 2] < 0 || o->kernel[i % 2] > most || o->stride[i % 2] < 0
            || o->stride[i % 2] > most || o->padding[i] < 0 || o->padding[i] > most)
            return ft__fail(c, FT_INVALID, "%s: kernel %d, stride %d, padding %d: negative or too"
                            " large", node->name, o->kernel[i % 2], o->stride[i % 2],
                            o->padding[i]);
    if ((int64_t)x->size[2] * x->size[3] > 1 << 30)
        return ft__fail(c, FT_SHAPE, "%s: a picture of %d x %d is too large", node->name,
                        x->size[2], x->size[3]);
    return FT_OK;
}

static ft_status ft__pool2d_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    int i;
    if (x->rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, C, H, W], its input is %s", node->name,
                        ft__shape_text(x, text));
    if (ft__pool2d_check(c, node, x) != FT_OK) return c->status;
    *output = *x;
    for (i = 0; i < 2; ++i) {
        ft__window w = ft__pool_window(&node->options.pool2d, x, i);
        if (w.out < 1)
            return ft__fail(c, FT_SHAPE, "%s: kernel %d, stride %d, padding %d and %d do not fit an"
                            " input of %s", node->name, w.kernel, w.stride, w.before, w.after,
                            ft__shape_text(x, text));
        if (!node->options.pool2d.same && (2 * w.before > w.kernel || 2 * w.after > w.kernel))
            return ft__fail(c, FT_SHAPE, "%s: padding %d is more than half of the kernel, %d",
                            node->name, w.before > w.after ? w.before : w.after, w.kernel);
        output->size[2 + i] = w.out;
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* The part of window `at` that lies inside: [first, last). */
static void ft__window_range(const ft__window *w, int at, int *first, int *last)
{
    int start = at * w->stride - w->before;
    *first = start < 0 ? 0 : start;
    *last = start + w->kernel < w->in ? start + w->kernel : w->in;
}

static void ft__max_pool2d_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->output) * sizeof(int32_t); /* where each maximum was */
}

/* One window of a line of the output: pixels [top, bottom) x [left, right) of a picture, and the
   channels there. */
typedef struct ft__pool_place {
    const float *x;             /* the picture */
    int width, top, bottom, left, right;
    size_t channels;
} ft__pool_place;

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3")
#endif

/* The largest of a window, the first one where several are, and NaN where one is. */
FT__INLINE void ft__max_window(const ft__pool_place *p, float *FT__RESTRICT y,
                               int32_t *FT__RESTRICT where)
{
    size_t c, channels = p->channels;
    int i, j;
    int32_t first = p->top * p->width + p->left;
    for (c = 0; c < channels; ++c) {
        y[c] = p->x[(size_t)first * channels + c];
        where[c] = first;
    }
    for (i = p->top; i < p->bottom; ++i)
        for (j = p->left; j < p->right; ++j) {
            int32_t at = i * p->width + j;
            const float *FT__RESTRICT x = p->x + (size_t)at * channels;
            for (c = 0; c < channels; ++c) {
                float v = x[c], best = y[c];
                bool more = v > best || v != v;
                y[c] = more ? v : best;
                where[c] = more ? at : where[c];
            }
        }
}

FT__LEVELS(ft__max_window_run, (const ft__pool_place *p, float *y, int32_t *where),
           ft__max_window(p, y, where))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

static ft__pool_place ft__pool_place_of(const ft__call *call, const ft__window *h, int picture,
                                        int row)
{
    ft__pool_place p;
    memset(&p, 0, sizeof p);
    p.channels = (size_t)call->input[0].shape.size[1];
    p.width = call->input[0].shape.size[3];
    p.x = call->input[0].value + (size_t)picture * (size_t)h->in * (size_t)p.width * p.channels;
    ft__window_range(h, row, &p.top, &p.bottom);
    return p;
}

static void ft__max_pool_line(void *context, int index)
{
    const ft__call *call = (const ft__call *)context;
    const ft_pool2d_options *o = &call->node->options.pool2d;
    ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
    ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
    ft__pool_place p = ft__pool_place_of(call, &h, index / h.out, index % h.out);
    size_t at = (size_t)index * (size_t)w.out * p.channels;
    int column;
    for (column = 0; column < w.out; ++column, at += p.channels) {
        ft__window_range(&w, column, &p.left, &p.right);
        ft__max_window_run[call->context->simd](&p, call->output.value + at,
                                                (int32_t *)call->saved + at);
    }
}

static void ft__max_pool2d_forward(const ft__call *call)
{
    ft__parallel(call->context, call->output.shape.size[0] * call->output.shape.size[2],
                 ft__max_pool_line, (void *)(uintptr_t)call);
}

static size_t ft__sample_numbers(const ft__tensor *t)
{
    return ft__count(t) / (size_t)t->shape.size[0];
}

/* Sends the gradient of every output of a picture to where its maximum was. */
static void ft__max_back_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], i, c;
    size_t count = ft__sample_numbers(&call->output), at = (size_t)picture * count;
    const int32_t *where = (const int32_t *)call->saved + at;
    const float *dy = call->output.gradient + at;
    float *dx = call->input[0].gradient
        + (size_t)picture * ft__sample_numbers(&call->input[0]);
    for (i = 0; i < count; i += channels)
        for (c = 0; c < channels; ++c) dx[(size_t)where[i + c] * channels + c] += dy[i + c];
}

static void ft__max_pool2d_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__max_back_picture,
                     (void *)(uintptr_t)call);
}

/* What an average divides by: the window's size, with the padding that it covers (but not what
   ceil_mode added beyond), or only the pixels inside. */
static float ft__pool_area(const ft_pool2d_options *o, const ft__window *h, const ft__window *w,
                           int row, int column)
{
    int top, bottom, left, right;
    ft__window_range(h, row, &top, &bottom);
    ft__window_range(w, column, &left, &right);
    if (!o->exclude_padding && !o->same) {
        top = row * h->stride - h->before;
        left = column * w->stride - w->before;
        bottom = top + h->kernel < h->in + h->after ? top + h->kernel : h->in + h->after;
        right = left + w->kernel < w->in + w->after ? left + w->kernel : w->in + w->after;
    }
    return (float)(bottom - top) * (float)(right - left);
}

/* Averages one picture, or sends its gradient back. */
static void ft__avg_pool_picture(const ft__call *call, int picture, bool backward)
{
    const ft_pool2d_options *o = &call->node->options.pool2d;
    ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
    ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
    size_t channels = (size_t)call->input[0].shape.size[1], c;
    size_t in = (size_t)picture * ft__sample_numbers(&call->input[0]);
    size_t out = (size_t)picture * ft__sample_numbers(&call->output);
    int row, column, top, bottom, left, right, i, j;
    for (row = 0; row < h.out; ++row)
        for (column = 0; column < w.out; ++column, out += channels) {
            float area = ft__pool_area(o, &h, &w, row, column);
            float *y = call->output.value + out;
            ft__window_range(&h, row, &top, &bottom);
            ft__window_range(&w, column, &left, &right);
            for (c = 0; !backward && c < channels; ++c) y[c] = 0;
            for (i = top; i < bottom; ++i)
                for (j = left; j < right; ++j) {
                    size_t at = in + (size_t)(i * w.in + j) * channels;
                    for (c = 0; !backward && c < channels; ++c)
                        y[c] += call->input[0].value[at + c];
                    for (c = 0; backward && c < channels; ++c)
                        call->input[0].gradient[at + c] += call->output.gradient[out + c] / area;
                }
            for (c = 0; !backward && c < channels; ++c) y[c] /= area;
        }
}

static void ft__avg_pool_forward_picture(void *context, int picture)
{
    ft__avg_pool_picture((const ft__call *)context, picture, false);
}

static void ft__avg_pool_backward_picture(void *context, int picture)
{
    ft__avg_pool_picture((const ft__call *)context, picture, true);
}

static void ft__avg_pool2d_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__avg_pool_forward_picture,
                 (void *)(uintptr_t)call);
}

static void ft__avg_pool2d_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__avg_pool_backward_picture,
                     (void *)(uintptr_t)call);
}

/* ---- Over the whole plane ---- */

static ft_status ft__global_pool_shape(ft__context *c, const ft__node *node,
                                       const ft__tensor *input, int input_count, ft_shape *output)
{
    char text[80];
    if (input[0].shape.rank != 4)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, C, H, W], its input is %s", node->name,
                        ft__shape_text(&input[0].shape, text));
    *output = input[0].shape;
    if ((int64_t)output->size[2] * output->size[3] > 1 << 30)
        return ft__fail(c, FT_SHAPE, "%s: a picture of %d x %d is too large", node->name,
                        output->size[2], output->size[3]);
    output->size[2] = output->size[3] = 1;
    return ft__want_numbers(c, node, input, input_count);
}

/* Sums of 64 pixels at a time in float, those in double. */
static void ft__global_avg_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], first, l, i, begin;
    size_t plane = ft__sample_numbers(&call->input[0]) / channels;
    const float *x = call->input[0].value + (size_t)picture * plane * channels;
    float *y = call->output.value + (size_t)picture * channels;
    for (first = 0; first < channels; first += 16) {
        size_t some = channels - first < 16 ? channels - first : 16;
        double total[16] = {0};
        for (begin = 0; begin < plane; begin += 64) {
            size_t end = plane - begin < 64 ? plane : begin + 64;
            float sum[16] = {0};
            for (i = begin; i < end; ++i)
                for (l = 0; l < some; ++l) sum[l] += x[i * channels + first + l];
            for (l = 0; l < 16; ++l) total[l] += (double)sum[l];
        }
        for (l = 0; l < some; ++l) y[first + l] = (float)(total[l] / (double)plane);
    }
}

static void ft__global_avg_back_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    size_t channels = (size_t)call->input[0].shape.size[1], i, c;
    size_t plane = ft__sample_numbers(&call->input[0]) / channels;
    const float *dy = call->output.gradient + (size_t)picture * channels;
    float *dx = call->input[0].gradient + (size_t)picture * plane * channels;
    for (i = 0; i < plane; ++i, dx += channels)
        for (c = 0; c < channels; ++c)
            dx[c] = (call->input[0].fresh ? 0 : dx[c]) + dy[c] / (float)plane;
}

static void ft__global_avg_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__global_avg_picture,
                 (void *)(uintptr_t)call);
}

static void ft__global_avg_pool_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__global_avg_back_picture,
                     (void *)(uintptr_t)call);
}

static void ft__global_max_pool_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->output) * sizeof(int32_t);
}

static void ft__global_max_picture(void *context, int picture)
{
    const ft__call *call = (const ft__call *)context;
    const ft_shape *x = &call->input[0].shape;
    ft__window whole;
    ft__pool_place p;
    memset(&whole, 0, sizeof whole);
    whole.in = whole.kernel = x->size[2];
    p = ft__pool_place_of(call, &whole, picture, 0);
    p.right = p.width;
    ft__max_window_run[call->context->simd](&p,
                                            call->output.value + (size_t)picture * p.channels,
                                            (int32_t *)call->saved + (size_t)picture * p.channels);
}

static void ft__global_max_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__global_max_picture,
                 (void *)(uintptr_t)call);
}

static void ft__global_max_pool_backward(const ft__call *call)
{
    ft__max_pool2d_backward(call);
}

/* =============================================================================================
   [SECTION] 8.6 Shape and arithmetic
   ============================================================================================= */
static const ft__field ft__reshape_fields[] = {
    {"rank", offsetof(ft__reshape_options, rank), 1, 'i'},
    {"size", offsetof(ft__reshape_options, size), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__concat_fields[] = {
    {"axis", offsetof(ft__concat_options, axis), 1, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__pad_fields[] = {
    {"before", offsetof(ft_pad_options, before), FINETUNE_MAX_RANK, 'i'},
    {"after", offsetof(ft_pad_options, after), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__slice_fields[] = {
    {"start", offsetof(ft_slice_options, start), FINETUNE_MAX_RANK, 'i'},
    {"stop", offsetof(ft_slice_options, stop), FINETUNE_MAX_RANK, 'i'},
    {"step", offsetof(ft_slice_options, step), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};

/* The product of the sizes behind the first dimension, FT_LENGTH left out where `lengths` counts
   those; 0 when it is more than an int holds. */
static int ft__sample_size(const ft_shape *shape, int *lengths)
{
    int64_t product = 1;
    int d;
    if (lengths) *lengths = 0;
    for (d = 1; d < shape->rank; ++d) {
        if (lengths && shape->size[d] == FT_LENGTH) {
            *lengths += 1;
            continue;
        }
        if (shape->size[d] < 1) return 0;
        product *= shape->size[d];
        if (product > INT_MAX) return 0;
    }
    return (int)product;
}

static ft_status ft__flatten_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    memset(output, 0, sizeof *output);
    output->rank = 2;
    output->size[0] = input[0].shape.size[0];
    output->size[1] = ft__sample_size(&input[0].shape, NULL);
    if (input[0].shape.rank < 1 || output->size[1] < 1)
        return ft__fail(c, FT_SHAPE, "%s: its input cannot be flattened", node->name);
    return ft__want_numbers(c, node, input, input_count);
}

static ft_status ft__reshape_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    const ft__reshape_options *o = &node->options.reshape;
    int lengths, size = ft__sample_size(&input[0].shape, &lengths), unknown = -1, d;
    int64_t known = 1;
    memset(output, 0, sizeof *output);
    if (o->rank < 0 || o->rank >= FINETUNE_MAX_RANK || input[0].shape.rank < 1)
        return ft__fail(c, FT_SHAPE, "%s: a shape of %d dimensions", node->name, o->rank);
    output->rank = o->rank + 1;
    output->size[0] = input[0].shape.size[0];
    for (d = 0; d < o->rank; ++d) {
        output->size[d + 1] = o->size[d];
        if (o->size[d] == FT_LENGTH) lengths -= 1;
        else if (o->size[d] == -1 && unknown < 0) unknown = d + 1;
        else if (o->size[d] < 1) known = 0;
        else known = known > INT_MAX ? known : known * o->size[d];
    }
    if (unknown > 0 && known > 0 && size % known == 0) {
        output->size[unknown] = (int)(size / known);
        known = size;
    }
    if (known != size || size < 1 || lengths != 0)
        return ft__fail(c, FT_SHAPE, "%s: a sample of %d numbers does not fit the new shape",
                        node->name, size);
    return ft__want_numbers(c, node, input, input_count);
}

/* Where a number that is at `i` of a sample, in the order that users see, lies in memory. */
static size_t ft__memory_place(const ft__tensor *t, size_t i)
{
    size_t plane;
    if (!t->channels_last) return i;
    plane = (size_t)t->shape.size[2] * (size_t)t->shape.size[3];
    return i % plane * (size_t)t->shape.size[1] + i / plane;
}

/* The same numbers in another shape: they keep the order that users see. Between tensors with the
   channels last and others that is a turn; between two of the former, number by number. */
static void ft__copy_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const float *from = backward ? y->gradient : x->value;
    float *to = backward ? x->gradient : y->value;
    size_t count = ft__count(y), sample, each, n, i;
    if (!to) return;
    if (x->channels_last != y->channels_last) {
        ft__turn(call->context, x->channels_last ? &x->shape : &y->shape,
                 x->channels_last != backward ? FT__TO_FIRST : FT__TO_LAST, from, to, backward);
        return;
    }
    if (!backward && !x->channels_last) memcpy(to, from, count * sizeof(float));
    each = count / (size_t)x->shape.size[0];
    for (n = 0; (backward || x->channels_last) && n < count; n += each)
        for (i = 0; i < each; ++i) {
            sample = n + ft__memory_place(backward ? x : y, i);
            to[sample] = (backward ? to[sample] : 0) + from[n + ft__memory_place(backward ? y : x,
                                                                                 i)];
        }
}

static void ft__copy_forward(const ft__call *call) { ft__copy_run(call, false); }
static void ft__copy_backward(const ft__call *call) { ft__copy_run(call, true); }

/* ---- add, mul: b is repeated along sizes of 1 and along leading dimensions that it lacks ---- */

static ft_status ft__broadcast_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *a = &input[0].shape, *b = &input[1].shape;
    char left[80], right[80];
    int d, skip = a->rank - b->rank;
    bool fits = skip >= 0;
    *output = *a;
    for (d = 0; fits && d < b->rank; ++d)
        fits = b->size[d] == 1 || b->size[d] == a->size[d + skip];
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: %s does not repeat to %s", node->name,
                        ft__shape_text(b, right), ft__shape_text(a, left));
    return ft__want_numbers(c, node, input, input_count);
}

/* The sizes of a as they lie in memory, and how far b moves along each: 0 where it is repeated. */
typedef struct ft__strides { int rank; size_t size[FINETUNE_MAX_RANK], step[FINETUNE_MAX_RANK]; }
    ft__strides;

static ft__strides ft__broadcast_strides(const ft__tensor *a, const ft__tensor *b)
{
    ft_shape in_memory = ft__memory_shape(b);
    size_t step = 1, steps[FINETUNE_MAX_RANK];
    int d, skip = a->shape.rank - b->shape.rank;
    ft__strides s;
    memset(&s, 0, sizeof s);
    s.rank = a->shape.rank;
    for (d = b->shape.rank - 1; d >= 0; --d) {
        steps[d] = step;
        step *= (size_t)in_memory.size[d];
    }
    for (d = 0; d < s.rank; ++d) {
        int at = ft__memory_axis(a, d);
        s.size[at] = (size_t)a->shape.size[d];
        if (d >= skip && b->shape.size[d - skip] != 1)
            s.step[at] = steps[ft__memory_axis(b, d - skip)];
    }
    return s;
}

/* Where in b the element lies that belongs to element i of a. */
static size_t ft__broadcast_index(const ft__strides *s, size_t i)
{
    size_t index = 0;
    int d;
    for (d = s->rank - 1; d >= 0; --d) {
        index += i % s->size[d] * s->step[d];
        i /= s->size[d];
    }
    return index;
}

/* How many neighbours in a share one element of b (`repeated`), or have neighbours in b too. */
static size_t ft__broadcast_stretch(const ft__strides *s, bool *repeated)
{
    size_t stretch = 1;
    int d;
    bool known = false;
    *repeated = true;
    for (d = s->rank - 1; d >= 0; --d) {
        if (s->size[d] == 1) continue;
        if (!known) *repeated = s->step[d] == 0;
        known = true;
        if (s->step[d] != (*repeated ? 0 : stretch)) break;
        stretch *= s->size[d];
    }
    return stretch;
}

/* The sum of dy, or of dy x: eight sums side by side in double, then those in order. */
static double ft__sum_products(const float *dy, const float *x, size_t count)
{
    double lanes[8] = {0};
    size_t i, l;
    for (i = 0; i + 8 <= count; i += 8)
        for (l = 0; l < 8; ++l) lanes[l] += (double)dy[i + l] * (x ? (double)x[i + l] : 1);
    for (; i < count; ++i) lanes[i % 8] += (double)dy[i] * (x ? (double)x[i] : 1);
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
        + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

typedef enum ft__broadcast_way { FT__BROADCAST_FORWARD, FT__BROADCAST_A, FT__BROADCAST_B }
    ft__broadcast_way;

/* Elements [i, i + count) of a, with which either b[0] or b[0 .. count - 1] goes. */
static void ft__broadcast_line(const ft__call *call, bool product, ft__broadcast_way way, size_t i,
                               size_t count, size_t j, bool repeated)
{
    const float *a = call->input[0].value + i, *b = call->input[1].value + j;
    const float *dy = way == FT__BROADCAST_FORWARD ? NULL : call->output.gradient + i;
    size_t step = repeated ? 0 : 1, n;
    bool same = call->input[1].fresh && ft__count(&call->input[0]) == ft__count(&call->input[1]);
    if (way == FT__BROADCAST_FORWARD) {
        float *y = call->output.value + i;
        if (product) for (n = 0; n < count; ++n) y[n] = a[n] * b[n * step];
        else for (n = 0; n < count; ++n) y[n] = a[n] + b[n * step];
    } else if (way == FT__BROADCAST_A) {
        float *da = call->input[0].gradient + i;
        if (da == dy) return; /* the gradient is there already */
        if (call->input[0].fresh && !product) memcpy(da, dy, count * sizeof *da);
        else if (call->input[0].fresh) for (n = 0; n < count; ++n) da[n] = dy[n] * b[n * step];
        else if (product) for (n = 0; n < count; ++n) da[n] += dy[n] * b[n * step];
        else for (n = 0; n < count; ++n) da[n] += dy[n];
    } else if (repeated)
        call->input[1].gradient[j] += (float)ft__sum_products(dy, product ? a : NULL, count);
    else {
        float *db = call->input[1].gradient + j;
        if (same && !product) memcpy(db, dy, count * sizeof *db);
        else if (same) for (n = 0; n < count; ++n) db[n] = dy[n] * a[n];
        else for (n = 0; n < count; ++n) db[n] += product ? dy[n] * a[n] : dy[n];
    }
}

typedef struct ft__broadcast_run {
    const ft__call *call;
    bool product;
    ft__broadcast_way way;
    size_t chunk;
} ft__broadcast_run;

static void ft__broadcast_chunk(void *context, int index)
{
    const ft__broadcast_run *run = (const ft__broadcast_run *)context;
    ft__strides b = ft__broadcast_strides(&run->call->input[0], &run->call->input[1]);
    size_t i = (size_t)index * run->chunk, end = ft__count(&run->call->input[0]), stretch, count;
    size_t start;
    bool repeated;
    stretch = ft__broadcast_stretch(&b, &repeated);
    if (end - i > run->chunk) end = i + run->chunk;
    start = i;
    for (; i < end; i += count) {
        count = stretch - i % stretch < end - i ? stretch - i % stretch : end - i;
        ft__broadcast_line(run->call, run->product, run->way, i, count,
                           ft__broadcast_index(&b, i), repeated);
    }
    if (run->call->fused && run->way == FT__BROADCAST_FORWARD)
        ft__activate(run->call->fused, run->call->fused_options, run->call->output.value + start,
                     end - start);
}

/* b's gradient, where b is repeated, is summed on one thread: its elements would have no owner. */
static void ft__broadcast(const ft__call *call, bool product, ft__broadcast_way way)
{
    size_t count = ft__count(&call->input[0]);
    bool serial = way == FT__BROADCAST_B && count != ft__count(&call->input[1]);
    ft__broadcast_run run;
    if (way == FT__BROADCAST_A && !call->input[0].gradient) return;
    if (way == FT__BROADCAST_B && !call->input[1].gradient) return;
    run.call = call;
    run.product = product;
    run.way = way;
    run.chunk = serial ? count : FT__CHUNK;
    if (serial && call->input[1].fresh) ft__zero(call->context, &call->input[1]);
    ft__parallel(call->context, serial ? 1 : ft__chunks(count), ft__broadcast_chunk, &run);
}

static void ft__add_forward(const ft__call *call)
{
    ft__broadcast(call, false, FT__BROADCAST_FORWARD);
}

static void ft__add_backward(const ft__call *call)
{
    ft__broadcast(call, false, FT__BROADCAST_A);
    ft__broadcast(call, false, FT__BROADCAST_B);
}

static void ft__mul_forward(const ft__call *call)
{
    ft__broadcast(call, true, FT__BROADCAST_FORWARD);
}

static void ft__mul_backward(const ft__call *call)
{
    ft__broadcast(call, true, FT__BROADCAST_A);
    ft__broadcast(call, true, FT__BROADCAST_B);
}

/* ---- concat: inputs side by side along one axis ---- */

static ft_status ft__concat_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    int axis = node->options.concat.axis, i, d;
    char text[80];
    *output = input[0].shape;
    if (axis < 1 || axis >= output->rank || output->size[axis] < 1)
        return ft__fail(c, FT_SHAPE, "%s: axis %d of %s", node->name, axis,
                        ft__shape_text(output, text));
    for (i = 1; i < input_count; ++i) {
        bool fits = input[i].shape.rank == output->rank;
        for (d = 0; fits && d < output->rank; ++d)
            fits = d == axis ? input[i].shape.size[d] > 0
                             : input[i].shape.size[d] == output->size[d];
        if (!fits || output->size[axis] > INT_MAX - input[i].shape.size[axis])
            return ft__fail(c, FT_SHAPE, "%s: input %d, %s, does not fit the first but for axis %d",
                            node->name, i + 1, ft__shape_text(&input[i].shape, text), axis);
        output->size[axis] += input[i].shape.size[axis];
    }
    return ft__want_numbers(c, node, input, input_count);
}

static void ft__concat_run(const ft__call *call, bool backward)
{
    int axis = ft__memory_axis(&call->output, call->node->options.concat.axis), i;
    ft_shape shape = ft__memory_shape(&call->output);
    ft__axis whole = ft__split_axis(&shape, axis);
    size_t offset = 0, outer, j;
    for (i = 0; i < call->input_count; ++i) {
        ft_shape part = ft__memory_shape(&call->input[i]);
        size_t block = (size_t)part.size[axis] * whole.inner;
        for (outer = 0; outer < whole.outer; ++outer) {
            size_t to = outer * whole.size * whole.inner + offset;
            if (!backward) memcpy(call->output.value + to, call->input[i].value + outer * block,
                                  block * sizeof(float));
            else if (call->input[i].gradient)
                for (j = 0; j < block; ++j)
                    call->input[i].gradient[outer * block + j] += call->output.gradient[to + j];
        }
        offset += block;
    }
}

static void ft__concat_forward(const ft__call *call) { ft__concat_run(call, false); }
static void ft__concat_backward(const ft__call *call) { ft__concat_run(call, true); }

/* ---- pad and slice: each the other's derivative, a grid embedded into a larger one ---- */

/* The smaller tensor's element (i0, i1, ...) lies at start + i * step of the larger one. */
typedef struct ft__embedding { ft_shape small, large; int start[FINETUNE_MAX_RANK];
                               int step[FINETUNE_MAX_RANK]; } ft__embedding;

/* Calls for every line of the last dimension: where it starts in both. */
static size_t ft__embedded_line(const ft__embedding *e, size_t line)
{
    size_t index = 0, stride = (size_t)e->large.size[e->large.rank - 1];
    int d;
    index = (size_t)e->start[e->large.rank - 1];
    for (d = e->large.rank - 2; d >= 0; --d) {
        size_t at = line % (size_t)e->small.size[d];
        index += ((size_t)e->start[d] + at * (size_t)e->step[d]) * stride;
        stride *= (size_t)e->large.size[d];
        line /= (size_t)e->small.size[d];
    }
    return index;
}

enum { FT__TO_SMALL, FT__TO_LARGE };

/* Copies, or adds, along the embedding in either direction. */
static void ft__embed(const ft__embedding *e, float *small, float *large, int direction, bool add)
{
    size_t width = (size_t)e->small.size[e->small.rank - 1], lines, line, i;
    size_t step = (size_t)e->step[e->small.rank - 1];
    lines = ft__shape_count(&e->small) / width;
    for (line = 0; line < lines; ++line) {
        float *s = small + line * width, *l = large + ft__embedded_line(e, line);
        for (i = 0; i < width; ++i) {
            float *to = direction == FT__TO_SMALL ? &s[i] : &l[i * step];
            float from = direction == FT__TO_SMALL ? l[i * step] : s[i];
            *to = add ? *to + from : from;
        }
    }
}

static ft_status ft__pad_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                               int input_count, ft_shape *output)
{
    const ft_pad_options *o = &node->options.pad;
    int d;
    *output = input[0].shape;
    for (d = 0; d < output->rank; ++d) {
        bool fixed = output->size[d] > 0; /* neither the batch nor the length */
        if (o->before[d] < 0 || o->after[d] < 0 || (!fixed && (o->before[d] || o->after[d]))
            || (d == 0 && (o->before[0] || o->after[0]))
            || o->before[d] > 1 << 24 || o->after[d] > 1 << 24)
            return ft__fail(c, FT_SHAPE, "%s: padding %d and %d of dimension %d", node->name,
                            o->before[d], o->after[d], d);
        if (fixed && output->size[d] > INT_MAX - o->before[d] - o->after[d])
            return ft__fail(c, FT_SHAPE, "%s: dimension %d grows too large", node->name, d);
        if (fixed) output->size[d] += o->before[d] + o->after[d];
    }
    return ft__want_numbers(c, node, input, input_count);
}

static ft__embedding ft__pad_embedding(const ft__call *call)
{
    ft__embedding e;
    int d, at;
    e.small = ft__memory_shape(&call->input[0]);
    e.large = ft__memory_shape(&call->output);
    for (d = 0; d < FINETUNE_MAX_RANK; ++d) {
        at = ft__memory_axis(&call->output, d);
        e.start[at] = call->node->options.pad.before[d];
        e.step[at] = 1;
    }
    return e;
}

static void ft__pad_forward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    memset(call->output.value, 0, ft__count(&call->output) * sizeof(float));
    ft__embed(&e, call->input[0].value, call->output.value, FT__TO_LARGE, false);
}

static void ft__pad_backward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    if (call->input[0].gradient)
        ft__embed(&e, call->input[0].gradient, call->output.gradient, FT__TO_SMALL, true);
}

static int ft__slice_stop(const ft_slice_options *o, const ft_shape *x, int d)
{
    return o->stop[d] == 0 || o->stop[d] > x->size[d] ? x->size[d] : o->stop[d];
}

static ft_status ft__slice_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                 int input_count, ft_shape *output)
{
    const ft_slice_options *o = &node->options.slice;
    int d;
    *output = input[0].shape;
    if (o->start[0] || o->stop[0] || o->step[0] < 0 || o->step[0] > 1 || output->rank < 2)
        return ft__fail(c, FT_SHAPE, "%s: the batch cannot be sliced", node->name);
    for (d = 1; d < output->rank; ++d) {
        int step = o->step[d] ? o->step[d] : 1, stop = ft__slice_stop(o, &input[0].shape, d);
        if (output->size[d] == FT_LENGTH && !o->start[d] && !o->stop[d] && step == 1) continue;
        if (o->start[d] < 0 || step < 1 || stop <= o->start[d])
            return ft__fail(c, FT_SHAPE, "%s: start %d, stop %d, step %d of dimension %d, which"
                            " has %d", node->name, o->start[d], stop, step, d,
                            input[0].shape.size[d]);
        output->size[d] = (stop - o->start[d] - 1) / step + 1;
    }
    return ft__want_numbers(c, node, input, input_count);
}

static ft__embedding ft__slice_embedding(const ft__call *call)
{
    ft__embedding e;
    int d, at;
    e.small = ft__memory_shape(&call->output);
    e.large = ft__memory_shape(&call->input[0]);
    for (d = 0; d < FINETUNE_MAX_RANK; ++d) {
        at = ft__memory_axis(&call->output, d);
        e.start[at] = call->node->options.slice.start[d];
        e.step[at] = call->node->options.slice.step[d] ? call->node->options.slice.step[d] : 1;
    }
    return e;
}

static void ft__slice_forward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    ft__embed(&e, call->output.value, call->input[0].value, FT__TO_SMALL, false);
}

static void ft__slice_backward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    if (call->input[0].gradient)
        ft__embed(&e, call->output.gradient, call->input[0].gradient, FT__TO_LARGE, true);
}

/* =============================================================================================
   [SECTION] 8.6.1 Permute, gather, matmul
   What sequences and attention are made of.
   ============================================================================================= */
static const ft__field ft__permute_fields[] = {
    {"axes", offsetof(ft__permute_options, axes), FINETUNE_MAX_RANK, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__gather_fields[] = {
    {"axis", offsetof(ft__concat_options, axis), 1, 'i'}, {NULL, 0, 0, 0}};
static const ft__field ft__matmul_fields[] = {
    {"transpose_a", offsetof(ft_matmul_options, transpose_a), 1, 'b'},
    {"transpose_b", offsetof(ft_matmul_options, transpose_b), 1, 'b'}, {NULL, 0, 0, 0}};

/* ---- permute: y's dimension d is x's dimension axes[d]; the batch stays the first ---- */

static ft_status ft__permute_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                   int input_count, ft_shape *output)
{
    const int *axes = node->options.permute.axes;
    unsigned seen = 0;
    int d;
    char text[80];
    *output = input[0].shape;
    for (d = 0; d < output->rank; ++d) {
        if (axes[d] < 0 || axes[d] >= output->rank || (axes[d] == 0) != (d == 0)
            || seen >> axes[d] & 1)
            return ft__fail(c, FT_SHAPE, "%s: axis %d of %s goes to place %d: the axes must be a"
                            " permutation that leaves the batch, 0, the first", node->name,
                            axes[d], ft__shape_text(&input[0].shape, text), d);
        seen |= 1u << axes[d];
        output->size[d] = input[0].shape.size[axes[d]];
    }
    return ft__want_numbers(c, node, input, input_count);
}

/* How far apart in memory the neighbours along each of the user's dimensions are. */
static void ft__memory_steps(const ft__tensor *t, size_t *steps)
{
    ft_shape shape = ft__memory_shape(t);
    size_t step = 1, in_memory[FINETUNE_MAX_RANK];
    int d;
    for (d = shape.rank - 1; d >= 0; --d) {
        in_memory[d] = step;
        step *= (size_t)shape.size[d];
    }
    for (d = 0; d < shape.rank; ++d) steps[d] = in_memory[ft__memory_axis(t, d)];
}

typedef struct ft__permute_run { const ft__call *call; bool backward; } ft__permute_run;

/* One sample. y is walked in the user's order. */
static void ft__permute_sample(void *context, int sample)
{
    const ft__permute_run *run = (const ft__permute_run *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], each, i;
    int rank = y->shape.rank, d;
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        for (d = rank - 1; d > 0; --d) {
            size_t at = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            from += at * of_x[run->call->node->options.permute.axes[d]];
            to += at * of_y[d];
        }
        if (!run->backward) y->value[to] = x->value[from];
        else x->gradient[from] = (x->fresh ? 0 : x->gradient[from]) + y->gradient[to];
    }
}

static void ft__permute_run_all(const ft__call *call, bool backward)
{
    ft__permute_run run;
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__permute_sample, &run);
}

static void ft__permute_forward(const ft__call *call) { ft__permute_run_all(call, false); }
static void ft__permute_backward(const ft__call *call) { ft__permute_run_all(call, true); }

/* ---- gather: y[n, .., k, .., rest] = x[n, .., index[n, .., k, ..], .., rest] along one axis.
   PyTorch's gather where the index has as many dimensions as x; dimensions behind those of the
   index are taken whole: an index [N, K] takes K rows of each sample of x [N, T, D]. ---- */

static ft_status ft__gather_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape, *index = &input[1].shape;
    int axis = node->options.concat.axis, d;
    char text[80], other[80];
    bool fits = axis >= 1 && axis < index->rank && index->rank <= x->rank;
    *output = *x;
    for (d = 0; fits && d < index->rank; ++d) fits = d == axis || index->size[d] == x->size[d];
    if (!fits || input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: along axis %d, %s cannot be gathered by an index %s: the"
                        " index holds I32 and has x's sizes but for that axis", node->name, axis,
                        ft__shape_text(x, text), ft__shape_text(index, other));
    output->size[axis] = index->size[axis];
    return ft__want_numbers(c, node, input, input_count - 1);
}

typedef struct ft__gather_run { const ft__call *call; bool backward; } ft__gather_run;

/* One sample: places of the index that lie before the axis, along it, and behind it; then the rest
   of x. A wrong index makes NaN, as a wrong label does. */
static void ft__gather_sample(void *context, int sample)
{
    const ft__gather_run *run = (const ft__gather_run *)context;
    const ft__tensor *x = &run->call->input[0], *y = &run->call->output;
    const ft__tensor *index = &run->call->input[1];
    int axis = run->call->node->options.concat.axis, rank = x->shape.rank, d;
    size_t of_x[FINETUNE_MAX_RANK], of_y[FINETUNE_MAX_RANK], i, each;
    const int32_t *places = ft__integers(index);
    ft__memory_steps(x, of_x);
    ft__memory_steps(y, of_y);
    each = ft__count(y) / (size_t)y->shape.size[0];
    for (i = 0; i < each; ++i) {
        size_t rest = i, from = (size_t)sample * of_x[0], to = (size_t)sample * of_y[0];
        size_t at[FINETUNE_MAX_RANK], place = (size_t)sample;
        int32_t wanted;
        for (d = rank - 1; d > 0; --d) {
            at[d] = rest % (size_t)y->shape.size[d];
            rest /= (size_t)y->shape.size[d];
            to += at[d] * of_y[d];
            if (d != axis) from += at[d] * of_x[d];
        }
        for (d = 1; d < index->shape.rank; ++d)
            place = place * (size_t)index->shape.size[d] + at[d];
        wanted = places[place];
        if (wanted < 0 || wanted >= x->shape.size[axis]) {
            if (!run->backward) y->value[to] = (float)NAN;
            continue;
        }
        from += (size_t)wanted * of_x[axis];
        if (run->backward) x->gradient[from] += y->gradient[to];
        else y->value[to] = x->value[from];
    }
}

static void ft__gather_all(const ft__call *call, bool backward)
{
    ft__gather_run run;
    run.call = call;
    run.backward = backward;
    if (backward && !call->input[0].gradient) return;
    ft__parallel(call->context, call->output.shape.size[0], ft__gather_sample, &run);
}

static void ft__gather_along_forward(const ft__call *call) { ft__gather_all(call, false); }
static void ft__gather_along_backward(const ft__call *call) { ft__gather_all(call, true); }

/* ---- matmul: a [N, .., M, K], b [N, .., K, P] -> y [N, .., M, P], one product for each place of
   the dimensions before the last two; either may lie transposed.
       dA = dY B^T, dB = A^T dY, transposed where a or b is ---- */

static ft_status ft__matmul_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                  int input_count, ft_shape *output)
{
    const ft_matmul_options *o = &node->options.matmul;
    const ft_shape *a = &input[0].shape, *b = &input[1].shape;
    int last = a->rank - 1, d;
    char text[80], other[80];
    bool fits = a->rank >= 3 && a->rank == b->rank;
    *output = *a;
    for (d = 0; fits && d < last - 1; ++d) fits = a->size[d] == b->size[d];
    if (!fits || a->size[o->transpose_a ? last - 1 : last]
                 != b->size[o->transpose_b ? last : last - 1])
        return ft__fail(c, FT_SHAPE, "%s: %s%s times %s%s: wants [N, .., M, K] and [N, .., K, P]",
                        node->name, ft__shape_text(a, text), o->transpose_a ? " transposed" : "",
                        ft__shape_text(b, other), o->transpose_b ? " transposed" : "");
    output->size[last - 1] = a->size[o->transpose_a ? last : last - 1];
    output->size[last] = b->size[o->transpose_b ? last - 1 : last];
    return ft__want_numbers(c, node, input, input_count);
}

typedef struct ft__matmul_run {
    const ft__call *call;
    size_t count, m, k, p;          /* products, and the sizes of each */
    const float *a, *b, *dy;
    float *y, *da, *db;             /* each in the user's order */
    float *workspace;
    int which;                      /* 0: y, 1: da, 2: db */
} ft__matmul_run;

static bool ft__matmul_turns(const ft__call *call) { return call->output.channels_last; }

static ft__matmul_run ft__matmul_start(const ft__call *call)
{
    const ft_matmul_options *o = &call->node->options.matmul;
    const ft_shape *a = &call->input[0].shape;
    int last = a->rank - 1;
    ft__matmul_run run;
    memset(&run, 0, sizeof run);
    run.call = call;
    run.m = (size_t)call->output.shape.size[last - 1];
    run.p = (size_t)call->output.shape.size[last];
    run.k = (size_t)a->size[o->transpose_a ? last - 1 : last];
    run.count = ft__count(&call->output) / (run.m * run.p);
    run.workspace = call->workspace;
    return run;
}

static void ft__matmul_costs(const ft__call *call, ft__costs *costs)
{
    ft__matmul_run run = ft__matmul_start(call);
    size_t longest = ft__largest_of(run.k, ft__largest_of(run.m, run.p));
    size_t numbers = ft__gemm_workspace(call->context, call->training ? longest : run.k);
    if (call->output.shape.rank == 4) /* copies in the user's order, of gradients too */
        numbers += (call->training ? 2 : 1) * run.count
            * (run.m * run.k + run.k * run.p + run.m * run.p);
    costs->workspace = numbers * sizeof(float);
    costs->multiply_adds = (uint64_t)run.count * run.m * run.k * run.p;
}

/* Product number i of y, da or db; the matrices as they stand in the formulas above. */
static void ft__matmul_product(const ft__matmul_run *run, size_t i, ft__matrix *left,
                               ft__matrix *right, float **to, size_t sizes[3], bool *add)
{
    const ft_matmul_options *o = &run->call->node->options.matmul;
    size_t m = run->m, k = run->k, p = run->p;
    ft__matrix a = o->transpose_a ? ft__transposed(ft__rows_of(run->a + i * m * k, m))
                                  : ft__rows_of(run->a + i * m * k, k);
    ft__matrix b = o->transpose_b ? ft__transposed(ft__rows_of(run->b + i * k * p, k))
                                  : ft__rows_of(run->b + i * k * p, p);
    ft__matrix dy = ft__rows_of(run->which ? run->dy + i * m * p : run->a, p);
    bool flip = run->which == 1 ? o->transpose_a : o->transpose_b;
    size_t swap;
    sizes[0] = run->which == 2 ? k : m;
    sizes[1] = run->which == 1 ? k : p;
    sizes[2] = run->which == 0 ? k : run->which == 1 ? p : m;
    *left = run->which == 0 ? a : run->which == 1 ? dy : ft__transposed(a);
    *right = run->which == 0 ? b : run->which == 1 ? ft__transposed(b) : dy;
    *to = (run->which == 0 ? run->y : run->which == 1 ? run->da : run->db)
        + i * sizes[0] * sizes[1];
    *add = run->which != 0 && !ft__matmul_turns(run->call)
        && !run->call->input[run->which - 1].fresh;
    if (run->which == 0 || !flip) return;
    a = *left; /* (L R)^T = R^T L^T */
    *left = ft__transposed(*right);
    *right = ft__transposed(a);
    swap = sizes[0];
    sizes[0] = sizes[1];
    sizes[1] = swap;
}

static void ft__matmul_slot(void *context, int slot)
{
    const ft__matmul_run *run = (const ft__matmul_run *)context;
    ft__context *c = run->call->context;
    size_t most = ft__largest_of(run->k, ft__largest_of(run->m, run->p));
    size_t i, sizes[3], longest = run->which ? most : run->k, from;
    size_t room = ft__gemm_workspace(c, longest) / (size_t)c->threads;
    float *packed = run->workspace + (size_t)slot * room, *to;
    for (i = (size_t)slot; i < run->count; i += (size_t)c->threads) {
        ft__matrix left, right;
        bool add;
        ft__matmul_product(run, i, &left, &right, &to, sizes, &add);
        for (from = 0; from < sizes[0]; from += FT__PIECE_M) {
            size_t rows = ft__least_of(sizes[0] - from, FT__PIECE_M);
            ft__matrix part = left;
            part.at += (ptrdiff_t)from * part.row;
            ft__pack_left(c, rows, sizes[2], part, packed);
            ft__gemm(c, rows, sizes[1], sizes[2], packed, right, to + from * sizes[1], sizes[1],
                     add, packed + ft__packed_left(c, FT__PIECE_M, longest));
        }
    }
}

/* A copy of one tensor in the user's order, in the next piece of the workspace; itself where it
   lies so. */
static const float *ft__matmul_in_order(ft__matmul_run *run, const ft__tensor *t,
                                        const float *values)
{
    float *copy = run->workspace;
    if (!ft__matmul_turns(run->call)) return values;
    run->workspace += ft__count(t);
    ft__turn(run->call->context, &t->shape, FT__TO_FIRST, values, copy, false);
    return copy;
}

static void ft__matmul_forward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_turns(call);
    run.a = ft__matmul_in_order(&run, &call->input[0], call->input[0].value);
    run.b = ft__matmul_in_order(&run, &call->input[1], call->input[1].value);
    run.y = turns ? run.workspace : call->output.value;
    if (turns) run.workspace += ft__count(&call->output);
    ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
    if (turns)
        ft__turn(call->context, &call->output.shape, FT__TO_LAST, run.y, call->output.value,
                 false);
}

static void ft__matmul_backward(const ft__call *call)
{
    ft__matmul_run run = ft__matmul_start(call);
    bool turns = ft__matmul_turns(call);
    run.a = ft__matmul_in_order(&run, &call->input[0], call->input[0].value);
    run.b = ft__matmul_in_order(&run, &call->input[1], call->input[1].value);
    run.dy = ft__matmul_in_order(&run, &call->output, call->output.gradient);
    run.da = turns ? run.workspace : call->input[0].gradient;
    if (turns) run.workspace += ft__count(&call->input[0]);
    run.db = turns ? run.workspace : call->input[1].gradient;
    if (turns) run.workspace += ft__count(&call->input[1]);
    for (run.which = 1; run.which <= 2; ++run.which) {
        const ft__tensor *t = &call->input[run.which - 1];
        if (!t->gradient) continue;
        ft__parallel(call->context, call->context->threads, ft__matmul_slot, &run);
        if (turns)
            ft__turn(call->context, &t->shape, FT__TO_LAST, run.which == 1 ? run.da : run.db,
                     t->gradient, !t->fresh);
    }
}

/* =============================================================================================
   [SECTION] 8.7 Losses
   Each is the mean over the batch, one number. Targets get no gradient (but for mse's).
   ============================================================================================= */
static const ft__field ft__loss_fields[] = {
    {"label_smoothing", offsetof(ft_loss_options, label_smoothing), 1, 'f'}, {NULL, 0, 0, 0}};

/* What stands at padded places, and PyTorch's ignore_index: such a label does not count. */
static bool ft__is_ignored(int label) { return label == -1 || label == -100; }

static void ft__one_number(ft_shape *output)
{
    memset(output, 0, sizeof *output);
    output->rank = 1;
    output->size[0] = 1;
}

static ft_status ft__cross_entropy_shape(ft__context *c, const ft__node *node,
                                         const ft__tensor *input, int input_count,
                                         ft_shape *output)
{
    char text[80], other[80];
    float smoothing = node->options.loss.label_smoothing;
    int rank = input[0].shape.rank, d;
    bool fits;
    (void)input_count;
    ft__one_number(output);
    if (!(smoothing >= 0 && smoothing <= 1))
        return ft__fail(c, FT_INVALID, "%s: label_smoothing %g, wants 0 to 1", node->name,
                        (double)smoothing);
    if (input[1].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: labels hold %s, not I32", node->name,
                        ft__type_names[input[1].type]);
    fits = (rank == 2 || rank == 3) && input[1].shape.rank == rank - 1
        && input[0].shape.size[rank - 1] > 0;
    for (d = 0; fits && d < rank - 1; ++d)
        fits = input[0].shape.size[d] == input[1].shape.size[d];
    if (!fits)
        return ft__fail(c, FT_SHAPE, "%s: wants logits [N, classes] and labels [N], or [N, L,"
                        " classes] and [N, L], has %s and %s", node->name,
                        ft__shape_text(&input[0].shape, text),
                        ft__shape_text(&input[1].shape, other));
    return ft__want_numbers(c, node, input, 1);
}

/* Probabilities are kept for backward. */
static void ft__cross_entropy_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->input[0]) * sizeof(float);
}

static bool ft__is_class(int label, size_t classes)
{
    return label >= 0 && (size_t)label < classes;
}

/* The labels that count; a label that is no class makes the loss NaN, which ft_forward reports. */
static float ft__counted_labels(const ft__call *call)
{
    const int32_t *labels = ft__integers(&call->input[1]);
    size_t count = ft__count(&call->input[1]), n, counted = 0;
    for (n = 0; n < count; ++n)
        if (!ft__is_ignored(labels[n])) counted += 1;
    return (float)counted;
}

/* -sum over classes of q log(softmax(x)), q = 1 for the label; smoothed (Szegedy et al. 2016):
   q = (1 - s) for the label plus s / classes for every class. */
static void ft__cross_entropy_forward(const ft__call *call)
{
    size_t rows = ft__count(&call->input[1]), classes = ft__count(&call->input[0]) / rows, n, i;
    float smoothing = call->node->options.loss.label_smoothing, *p = (float *)call->saved;
    const int32_t *labels = ft__integers(&call->input[1]);
    double sum = 0;
    for (n = 0; n < rows; ++n, p += classes) {
        const float *x = call->input[0].value + n * classes;
        double all = 0;
        ft__softmax_line(x, p, classes, 1, true);
        for (i = 0; smoothing > 0 && i < classes; ++i) all -= (double)p[i];
        if (ft__is_class(labels[n], classes))
            sum += (1 - (double)smoothing) * -(double)p[labels[n]]
                + (double)smoothing * all / (double)classes;
        else if (!ft__is_ignored(labels[n])) sum += (double)ft__from_bits(0x7fc00000u);
        for (i = 0; i < classes; ++i) p[i] = ft__exp(p[i]);
    }
    call->output.value[0] = (float)(sum / (double)ft__counted_labels(call));
}

static void ft__cross_entropy_backward(const ft__call *call)
{
    size_t rows = ft__count(&call->input[1]), classes = ft__count(&call->input[0]) / rows, n, i;
    float smoothing = call->node->options.loss.label_smoothing;
    float scale = call->output.gradient[0] / ft__counted_labels(call);
    const int32_t *labels = ft__integers(&call->input[1]);
    const float *p = (const float *)call->saved;
    float *dx = call->input[0].gradient;
    for (n = 0; dx && n < rows; ++n, p += classes, dx += classes) {
        if (!ft__is_class(labels[n], classes)) continue;
        for (i = 0; i < classes; ++i) dx[i] += scale * (p[i] - smoothing / (float)classes);
        dx[labels[n]] -= scale * (1 - smoothing);
    }
}

static ft_status ft__pair_loss_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    char text[80], other[80];
    bool same = input[0].shape.rank == input[1].shape.rank;
    int d;
    ft__one_number(output);
    for (d = 0; same && d < input[0].shape.rank; ++d)
        same = input[0].shape.size[d] == input[1].shape.size[d];
    if (!same)
        return ft__fail(c, FT_SHAPE, "%s: the target %s has not the shape of %s", node->name,
                        ft__shape_text(&input[1].shape, other),
                        ft__shape_text(&input[0].shape, text));
    return ft__want_numbers(c, node, input, input_count);
}

static ft_status ft__soft_cross_entropy_shape(ft__context *c, const ft__node *node,
                                              const ft__tensor *input, int input_count,
                                              ft_shape *output)
{
    char text[80];
    if (input[0].shape.rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: wants logits [N, classes], has %s", node->name,
                        ft__shape_text(&input[0].shape, text));
    return ft__pair_loss_shape(c, node, input, input_count, output);
}

static void ft__soft_cross_entropy_costs(const ft__call *call, ft__costs *costs)
{
    costs->saved = ft__count(&call->input[0]) * sizeof(float);
}

/* -sum(t log(softmax(x))) / N; dx = (softmax(x) sum(t) - t) / N */
static void ft__soft_cross_entropy_forward(const ft__call *call)
{
    size_t classes = (size_t)call->input[0].shape.size[1], i;
    float *p = (float *)call->saved;
    const float *t = call->input[1].value;
    double sum = 0;
    int n, count = call->input[0].shape.size[0];
    for (n = 0; n < count; ++n, p += classes, t += classes) {
        ft__softmax_line(call->input[0].value + (size_t)n * classes, p, classes, 1, true);
        for (i = 0; i < classes; ++i) {
            if (t[i] != 0) sum -= (double)t[i] * (double)p[i];
            p[i] = ft__exp(p[i]);
        }
    }
    call->output.value[0] = (float)(sum / count);
}

static void ft__soft_cross_entropy_backward(const ft__call *call)
{
    size_t classes = (size_t)call->input[0].shape.size[1], i;
    const float *p = (const float *)call->saved, *t = call->input[1].value;
    float *dx = call->input[0].gradient, scale;
    int n, count = call->input[0].shape.size[0];
    scale = call->output.gradient[0] / (float)count;
    for (n = 0; dx && n < count; ++n, p += classes, t += classes, dx += classes) {
        float sum = 0;
        for (i = 0; i < classes; ++i) sum += t[i];
        for (i = 0; i < classes; ++i) dx[i] += scale * (p[i] * sum - t[i]);
    }
}

/* softplus(x) - t x = -(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))); dx = sigmoid(x) - t */
static void ft__binary_cross_entropy_forward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t count = ft__count(&call->input[0]), i;
    double sum = 0;
    for (i = 0; i < count; ++i) {
        float positive = x[i] > 0 ? x[i] : 0, size = x[i] < 0 ? -x[i] : x[i];
        sum += (double)(positive - t[i] * x[i]) + (double)ft__log1p(ft__exp(-size));
    }
    call->output.value[0] = (float)(sum / (double)count);
}

static void ft__binary_cross_entropy_backward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t count = ft__count(&call->input[0]), i;
    float scale = call->output.gradient[0] / (float)count;
    for (i = 0; call->input[0].gradient && i < count; ++i)
        call->input[0].gradient[i] += scale * (ft__sigmoid(x[i]) - t[i]);
}

/* mean((x - t)^2) */
static void ft__mse_forward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t count = ft__count(&call->input[0]), i;
    double sum = 0;
    for (i = 0; i < count; ++i) {
        double difference = (double)x[i] - (double)t[i];
        sum += difference * difference;
    }
    call->output.value[0] = (float)(sum / (double)count);
}

static void ft__mse_backward(const ft__call *call)
{
    const float *x = call->input[0].value, *t = call->input[1].value;
    size_t count = ft__count(&call->input[0]), i;
    float scale = 2 * call->output.gradient[0] / (float)count;
    for (i = 0; i < count; ++i) {
        if (call->input[0].gradient) call->input[0].gradient[i] += scale * (x[i] - t[i]);
        if (call->input[1].gradient) call->input[1].gradient[i] += scale * (t[i] - x[i]);
    }
}

/* =============================================================================================
   [SECTION] 8.8 Embedding and pooling over steps
   ============================================================================================= */
static const ft__field ft__embedding_fields[] = {
    {"padding_index", offsetof(ft_embedding_options, padding_index), 1, 'i'},
    {"padded", offsetof(ft_embedding_options, padded), 1, 'b'}, {NULL, 0, 0, 0}};
static const ft__field ft__step_pool_fields[] = {
    {"kind", offsetof(ft_step_pool_options, kind), 1, 'i'},
    {"bidirectional", offsetof(ft_step_pool_options, bidirectional), 1, 'b'}, {NULL, 0, 0, 0}};

/* ---- embedding: ids [N] or [N, L], weight [V, E] -> [.., E]: y = weight[id]. An id of -1 stands
   for "no word" and gives zeros; any other that is not in [0, V) gives NaN, which the loss shows.
   dweight[id] += dy, but for padding_index. ---- */

static ft_status ft__embedding_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *ids = &input[0].shape, *w = &input[1].shape;
    const ft_embedding_options *o = &node->options.embedding;
    char text[80], other[80];
    (void)input_count;
    *output = *ids;
    if (input[0].type != FT_I32)
        return ft__fail(c, FT_SHAPE, "%s: ids hold %s, not I32", node->name,
                        ft__type_names[input[0].type]);
    if (ids->rank < 1 || ids->rank > 2 || w->rank != 2)
        return ft__fail(c, FT_SHAPE, "%s: wants ids [N] or [N, L] and weight [V, E], has %s and %s",
                        node->name, ft__shape_text(ids, text), ft__shape_text(w, other));
    if (o->padded && (o->padding_index < 0 || o->padding_index >= w->size[0]))
        return ft__fail(c, FT_INVALID, "%s: padding_index %d of %d words", node->name,
                        o->padding_index, w->size[0]);
    output->size[output->rank++] = w->size[1];
    return ft__want_numbers(c, node, input + 1, 1);
}

static void ft__embedding_forward(const ft__call *call)
{
    const int32_t *ids = ft__integers(&call->input[0]);
    size_t count = ft__count(&call->input[0]), i, j;
    size_t words = (size_t)call->input[1].shape.size[0];
    size_t each = (size_t)call->input[1].shape.size[1];
    float *y = call->output.value;
    for (i = 0; i < count; ++i, y += each) {
        if (ids[i] >= 0 && (size_t)ids[i] < words)
            memcpy(y, call->input[1].value + (size_t)ids[i] * each, each * sizeof *y);
        else for (j = 0; j < each; ++j) y[j] = ids[i] == -1 ? 0 : ft__from_bits(0x7fc00000u);
    }
}

/* Work in proportion to the words in the batch; several places of one word add up in order. */
static void ft__embedding_backward(const ft__call *call)
{
    const ft_embedding_options *o = &call->node->options.embedding;
    const int32_t *ids = ft__integers(&call->input[0]);
    size_t count = ft__count(&call->input[0]), i, j;
    size_t words = (size_t)call->input[1].shape.size[0];
    size_t each = (size_t)call->input[1].shape.size[1];
    const float *dy = call->output.gradient;
    for (i = 0; call->input[1].gradient && i < count; ++i, dy += each) {
        float *to = call->input[1].gradient + (size_t)ids[i] * each;
        if (ids[i] < 0 || (size_t)ids[i] >= words) continue;
        if (o->padded && ids[i] == o->padding_index) continue;
        for (j = 0; j < each; ++j) to[j] += dy[j];
    }
}

/* ---- step_pool: x [N, L, C], lengths [N] (all L where there are none) -> [N, C]: the mean, the
   largest, or the last of the real steps; zeros where there is no step. `last` with
   `bidirectional` takes the second half of C from step 0, where a reversed RNN ends. ---- */

static ft_status ft__step_pool_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    char text[80];
    memset(output, 0, sizeof *output);
    if (x->rank != 3)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, L, C], has %s", node->name,
                        ft__shape_text(x, text));
    if ((unsigned)node->options.step_pool.kind > FT_POOL_MAX)
        return ft__fail(c, FT_INVALID, "%s: pooling %d: there are FT_POOL_LAST, FT_POOL_MEAN and"
                        " FT_POOL_MAX", node->name, (int)node->options.step_pool.kind);
    if (input_count > 1 && (input[1].type != FT_I32 || input[1].shape.rank != 1
                            || input[1].shape.size[0] != x->size[0]))
        return ft__fail(c, FT_SHAPE, "%s: lengths are I32 [N], not %s", node->name,
                        ft__shape_text(&input[1].shape, text));
    output->rank = 2;
    output->size[0] = x->size[0];
    output->size[1] = x->size[2];
    return ft__want_numbers(c, node, input, 1);
}

/* Where the largest was found. */
static void ft__step_pool_costs(const ft__call *call, ft__costs *costs)
{
    if (call->node->options.step_pool.kind == FT_POOL_MAX)
        costs->saved = ft__count(&call->output) * sizeof(int32_t);
}

/* How many steps of a sample are real. */
static size_t ft__steps_of(const ft__tensor *lengths, size_t sample, size_t most)
{
    int32_t length;
    if (!lengths) return most;
    length = ft__integers(lengths)[sample];
    return length < 0 ? 0 : (size_t)length < most ? (size_t)length : most;
}

static void ft__step_pool_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    const ft_step_pool_options *o = &call->node->options.step_pool;
    size_t most = (size_t)call->input[0].shape.size[1], c = (size_t)call->input[0].shape.size[2];
    size_t steps = ft__steps_of(call->input_count > 1 ? &call->input[1] : NULL, (size_t)sample,
                                most), t, j;
    const float *x = call->input[0].value + (size_t)sample * most * c;
    float *y = call->output.value + (size_t)sample * c;
    int32_t *at = call->saved ? (int32_t *)call->saved + (size_t)sample * c : NULL;
    for (j = 0; j < c; ++j) y[j] = 0;
    for (j = 0; steps > 0 && o->kind != FT_POOL_MEAN && j < c; ++j)
        y[j] = x[(o->kind == FT_POOL_MAX || (o->bidirectional && j >= c / 2) ? 0 : steps - 1) * c
                 + j];
    for (j = 0; at && o->kind == FT_POOL_MAX && j < c; ++j) at[j] = 0;
    for (t = 0; o->kind == FT_POOL_MEAN && t < steps; ++t)
        for (j = 0; j < c; ++j) y[j] += x[t * c + j];
    for (j = 0; o->kind == FT_POOL_MEAN && steps > 0 && j < c; ++j) y[j] /= (float)steps;
    for (t = 1; o->kind == FT_POOL_MAX && t < steps; ++t)
        for (j = 0; j < c; ++j)
            if (!(x[t * c + j] <= y[j])) {
                y[j] = x[t * c + j];
                if (at) at[j] = (int32_t)t;
            }
}

static void ft__step_pool_forward(const ft__call *call)
{
    ft__parallel(call->context, call->input[0].shape.size[0], ft__step_pool_sample,
                 (void *)(uintptr_t)call);
}

static void ft__step_pool_back_sample(void *context, int sample)
{
    const ft__call *call = (const ft__call *)context;
    const ft_step_pool_options *o = &call->node->options.step_pool;
    size_t most = (size_t)call->input[0].shape.size[1], c = (size_t)call->input[0].shape.size[2];
    size_t steps = ft__steps_of(call->input_count > 1 ? &call->input[1] : NULL, (size_t)sample,
                                most), t, j;
    const float *dy = call->output.gradient + (size_t)sample * c;
    float *dx = call->input[0].gradient + (size_t)sample * most * c;
    const int32_t *at = (const int32_t *)call->saved + (size_t)sample * c;
    if (steps == 0) return;
    for (t = 0; o->kind == FT_POOL_MEAN && t < steps; ++t)
        for (j = 0; j < c; ++j) dx[t * c + j] += dy[j] / (float)steps;
    for (j = 0; o->kind == FT_POOL_MAX && j < c; ++j) dx[(size_t)at[j] * c + j] += dy[j];
    for (j = 0; o->kind == FT_POOL_LAST && j < c; ++j)
        dx[(o->bidirectional && j >= c / 2 ? 0 : steps - 1) * c + j] += dy[j];
}

static void ft__step_pool_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__parallel(call->context, call->input[0].shape.size[0], ft__step_pool_back_sample,
                     (void *)(uintptr_t)call);
}

/* =============================================================================================
   [SECTION] 8.9 Recurrent layers
   lstm, gru, rnn: one layer, one direction or both. Inputs: x [N, L, in]; per direction weight_ih
   [G H, in], weight_hh [G H, H] and, if there are any, bias_ih and bias_hh [G H], with G = 4, 3, 1
   gates; then, as the options say, lengths I32 [N], the first hidden state [N, D H] and the first
   cell [N, D H]. Output [N, L, D H]; with D = 2, forward and reverse side by side.

   As a packed sequence of PyTorch's: steps at or behind a sample's length give zeros and leave its
   state alone; the reverse direction begins at its own last step.

   What the input adds to the gates is one product for all steps; only what the state adds is made
   step by step, with weights packed once. Inside, rows are ordered [step][sample] in the order in
   which steps are taken, so that every operand of every product is a plain matrix. Work is parted
   by direction and by rows of samples: no thread waits for another within the sequence.
   ============================================================================================= */
static const ft__field ft__recurrent_fields[] = {
    {"hidden", offsetof(ft__recurrent_options, hidden), 1, 'i'},
    {"bidirectional", offsetof(ft__recurrent_options, bidirectional), 1, 'b'},
    {"no_bias", offsetof(ft__recurrent_options, no_bias), 1, 'b'},
    {"relu", offsetof(ft__recurrent_options, relu), 1, 'b'},
    {"lengths", offsetof(ft__recurrent_options, lengths), 1, 'b'},
    {"initial", offsetof(ft__recurrent_options, initial), 1, 'b'},
    {"carry", offsetof(ft__recurrent_options, carry), 1, 'b'}, {NULL, 0, 0, 0}};

/* Sizes of a call, and where each input stands (0: it is not there). */
typedef struct ft__recurrent {
    const ft__call *call;
    const ft__recurrent_options *o;
    size_t n, steps, in, h, gates, directions;
    int per_direction, lengths, hidden, cell; /* inputs: of one direction, and numbers of others */
    size_t width;           /* gates * h */
    size_t rows;            /* steps * n */
} ft__recurrent;

static ft__recurrent ft__recurrent_of(const ft__call *call)
{
    ft__recurrent r;
    const ft__recurrent_options *o = &call->node->options.recurrent;
    int at;
    memset(&r, 0, sizeof r);
    r.call = call;
    r.o = o;
    r.n = (size_t)call->input[0].shape.size[0];
    r.steps = (size_t)call->input[0].shape.size[1];
    r.in = (size_t)call->input[0].shape.size[2];
    r.h = (size_t)o->hidden;
    r.gates = call->node->op == FT__OP_lstm ? 4 : call->node->op == FT__OP_gru ? 3 : 1;
    r.directions = o->bidirectional ? 2 : 1;
    r.per_direction = o->no_bias ? 2 : 4;
    at = 1 + (int)r.directions * r.per_direction;
    if (o->lengths) r.lengths = at++;
    if (o->initial) r.hidden = at++;
    if (o->initial && call->node->op == FT__OP_lstm) r.cell = at;
    r.width = r.gates * r.h;
    r.rows = r.steps * r.n;
    return r;
}

enum { FT__WEIGHT_IH, FT__WEIGHT_HH, FT__BIAS_IH, FT__BIAS_HH };

static const ft__tensor *ft__recurrent_weight(const ft__recurrent *r, size_t direction, int which)
{
    return &r->call->input[1 + (int)direction * r->per_direction + which];
}

static bool ft__has_sizes(const ft__tensor *t, int rank, int first, int second)
{
    return t->shape.rank == rank && t->shape.size[0] == first
        && (rank < 2 || t->shape.size[1] == second);
}

static ft_status ft__recurrent_check(ft__context *c, const ft__recurrent *r, int input_count)
{
    const ft__tensor *input = r->call->input;
    const char *name = r->call->node->name;
    int wanted = 1 + (int)r->directions * r->per_direction + (r->lengths > 0) + (r->hidden > 0)
        + (r->cell > 0), d, wide = (int)r->width, features = r->o->hidden * (int)r->directions;
    char text[80];
    if (input_count != wanted)
        return ft__fail(c, FT_SHAPE, "%s: has %d inputs, wants %d", name, input_count, wanted);
    for (d = 0; d < (int)r->directions; ++d) {
        const ft__tensor *w = ft__recurrent_weight(r, (size_t)d, 0);
        if (!ft__has_sizes(&w[0], 2, wide, (int)r->in) || !ft__has_sizes(&w[1], 2, wide,
                                                                         r->o->hidden))
            return ft__fail(c, FT_SHAPE, "%s: weights of %d inputs and %d hidden numbers are"
                            " [%d, %d] and [%d, %d]; weight_ih is %s", name, (int)r->in,
                            r->o->hidden, wide, (int)r->in, wide, r->o->hidden,
                            ft__shape_text(&w[0].shape, text));
        if (!r->o->no_bias && (!ft__has_sizes(&w[2], 1, wide, 0)
                               || !ft__has_sizes(&w[3], 1, wide, 0)))
            return ft__fail(c, FT_SHAPE, "%s: biases are [%d], not %s", name, wide,
                            ft__shape_text(&w[2].shape, text));
    }
    if (r->lengths && (input[r->lengths].type != FT_I32
                       || !ft__has_sizes(&input[r->lengths], 1, input[0].shape.size[0], 0)))
        return ft__fail(c, FT_SHAPE, "%s: lengths are I32 [N], not %s", name,
                        ft__shape_text(&input[r->lengths].shape, text));
    for (d = r->hidden; d > 0 && d < wanted; ++d)
        if (!ft__has_sizes(&input[d], 2, input[0].shape.size[0], features))
            return ft__fail(c, FT_SHAPE, "%s: the first state is [N, %d], not %s", name, features,
                            ft__shape_text(&input[d].shape, text));
    for (d = 0; d < wanted; ++d)
        if (d != r->lengths && input[d].type != FT_F32)
            return ft__fail(c, FT_SHAPE, "%s: input %d holds %s, not F32", name, d + 1,
                            ft__type_names[input[d].type]);
    return FT_OK;
}

static ft_status ft__recurrent_shape(ft__context *c, const ft__node *node, const ft__tensor *input,
                                     int input_count, ft_shape *output)
{
    const ft_shape *x = &input[0].shape;
    int hidden = node->options.recurrent.hidden;
    char text[80];
    ft__recurrent r;
    ft__call call;
    *output = *x;
    if (x->rank != 3 || x->size[2] < 1)
        return ft__fail(c, FT_SHAPE, "%s: wants [N, L, in], has %s", node->name,
                        ft__shape_text(x, text));
    if (hidden < 1 || hidden > 1 << 24)
        return ft__fail(c, FT_INVALID, "%s: %d hidden numbers", node->name, hidden);
    memset(&call, 0, sizeof call);
    call.node = node;
    call.input = input;
    r = ft__recurrent_of(&call);
    output->size[2] = hidden * (int)r.directions;
    return ft__recurrent_check(c, &r, input_count);
}

/* ---- Memory. Kept for backward, of one direction: gates [steps, n, G H], hidden states
   [steps + 1, n, H], the first being the initial one, and `extra`: the LSTM's cells likewise, or
   the GRU's hidden part of the new gate, [steps, n, H]. ---- */

static float *ft__recurrent_gates(const ft__recurrent *r, size_t direction)
{
    size_t states = (r->rows + r->n) * r->h;
    size_t extra = r->gates == 4 ? states : r->gates == 3 ? r->rows * r->h : 0;
    return (float *)r->call->saved + direction * (r->rows * r->width + states + extra);
}

static float *ft__recurrent_states(const ft__recurrent *r, size_t direction)
{
    return ft__recurrent_gates(r, direction) + r->rows * r->width;
}

static float *ft__recurrent_extra(const ft__recurrent *r, size_t direction)
{
    return ft__recurrent_states(r, direction) + (r->rows + r->n) * r->h;
}

/* Scratch: per direction what the state adds [n, G H], gradients of state and cell [n, H] each,
   and a bias; once the inputs in the order of the steps [rows, in], or their gradients; the
   weights for backward; room for products. Packed for forward: weight_ih and weight_hh of each
   direction. */
typedef struct ft__recurrent_room { size_t add, state, bias, inputs, packed, product; }
    ft__recurrent_room;

#define FT__RECURRENT_ROWS ((size_t)128)    /* of a product that one thread takes at once */
#define FT__RECURRENT_DEPTH ((size_t)2048)  /* rows over which weight gradients sum at once */

static size_t ft__recurrent_packed_ih(const ft__recurrent *r)
{
    return ft__packed_right(r->call->context, r->width, r->in);
}

static size_t ft__recurrent_packed(const ft__recurrent *r)
{
    return ft__recurrent_packed_ih(r) + ft__packed_right(r->call->context, r->width, r->h);
}

static ft__recurrent_room ft__recurrent_room_of(const ft__recurrent *r)
{
    const ft__context *c = r->call->context;
    ft__recurrent_room room;
    size_t depth = r->rows < FT__RECURRENT_DEPTH ? r->rows : FT__RECURRENT_DEPTH;
    memset(&room, 0, sizeof room);
    room.add = r->directions * r->n * r->width;
    room.state = r->directions * r->n * r->h;
    room.bias = r->directions * r->width;
    room.packed = r->directions * ft__recurrent_packed(r);
    if (!r->call->training) return room;
    room.inputs = r->rows * r->in;
    room.packed = ft__largest_of(room.packed, r->directions
                                 * ft__packed_right(c, r->h, r->width)
                                 + ft__packed_right(c, r->in, r->width));
    room.product = ft__gemm_workspace(c, depth);
    return room;
}

static void ft__recurrent_costs(const ft__call *call, ft__costs *costs)
{
    ft__recurrent r = ft__recurrent_of(call);
    ft__recurrent_room room = ft__recurrent_room_of(&r);
    size_t each = r.rows * r.width + (r.rows + r.n) * r.h;
    if (r.gates == 4) each += (r.rows + r.n) * r.h;
    if (r.gates == 3) each += r.rows * r.h;
    costs->saved = r.directions * each * sizeof(float);
    costs->workspace = (room.add + 2 * room.state + room.bias + room.inputs + room.packed
                        + room.product) * sizeof(float);
    costs->prepared = r.directions * ft__recurrent_packed(&r) * sizeof(float);
    costs->multiply_adds = (uint64_t)r.directions * r.rows * r.width * (r.in + r.h);
}

/* Where the parts of the scratch begin. */
typedef struct ft__recurrent_run {
    ft__recurrent r;
    ft__recurrent_room room;
    float *add, *dh, *dc, *bias, *inputs, *packed, *product;
    const float *ih, *hh;   /* packed weights of direction 0, forward; backward: for the state */
    size_t ih_next, hh_next;/* from direction to direction */
    size_t chunk, chunks;   /* rows of samples that a thread takes through all steps; how many */
    size_t direction;       /* that the products over all steps are of */
} ft__recurrent_run;

static ft__recurrent_run ft__recurrent_start(const ft__call *call)
{
    ft__recurrent_run run;
    size_t threads = (size_t)call->context->threads, rows = ft__tiles[call->context->simd].rows;
    memset(&run, 0, sizeof run);
    run.r = ft__recurrent_of(call);
    run.room = ft__recurrent_room_of(&run.r);
    run.add = call->workspace;
    run.dh = run.add + run.room.add;
    run.dc = run.dh + run.room.state;
    run.bias = run.dc + run.room.state;
    run.inputs = run.bias + run.room.bias;
    run.packed = run.inputs + run.room.inputs;
    run.product = run.packed + run.room.packed;
    threads = (threads + run.r.directions - 1) / run.r.directions;
    run.chunk = ft__pad_to((run.r.n + threads - 1) / threads, rows);
    run.chunks = (run.r.n + run.chunk - 1) / run.chunk;
    return run;
}

/* A weight [rows, columns] as the right matrix of a product with its transpose, or with itself. */
static void ft__recurrent_pack(ft__context *c, const ft__tensor *weight, bool transposed, float *to)
{
    static const int none[] = {0};
    size_t rows = (size_t)weight->shape.size[0], columns = (size_t)weight->shape.size[1];
    ft__weight_pack pack;
    memset(&pack, 0, sizeof pack);
    pack.weight = weight->value;
    pack.n = transposed ? rows : columns;
    pack.k = transposed ? columns : rows;
    pack.n_step = transposed ? columns : 1;
    pack.k_step = transposed ? 1 : columns;
    pack.taps = 1;
    pack.tap_at = none;
    pack.to = to;
    ft__pack_weights(c, &pack);
}

/* The step at which a sample is, that the `s`-th one takes in this direction. */
static size_t ft__recurrent_time(const ft__recurrent *r, size_t direction, size_t s)
{
    return direction ? r->steps - 1 - s : s;
}

/* out [count, n] = or += rows `from`, `stride` apart, of k numbers, times a packed right matrix. */
static void ft__recurrent_multiply(const ft__context *c, const float *from, size_t stride,
                                   size_t count, size_t k, const float *packed, size_t n,
                                   float *out, bool accumulate)
{
    const ft__tile_row *tile = &ft__tiles[c->simd];
    const float *table[FT__RECURRENT_ROWS + FT__TILE_ROWS];
    size_t first, part, i;
    for (first = 0; first < count; first += part) {
        part = count - first;
        if (part > FT__RECURRENT_ROWS / tile->rows * tile->rows)
            part = FT__RECURRENT_ROWS / tile->rows * tile->rows;
        for (i = 0; i < ft__pad_to(part, tile->rows); ++i)
            table[i] = from + (first + (i < part ? i : part - 1)) * stride;
        ft__multiply_rows(tile, table, part, 1, k, packed, n, out + first * n, n, accumulate);
    }
}

/* ---- Forward ---- */

/* What the input adds to the gates, and the biases, for some rows of all steps. */
static void ft__recurrent_project(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    const ft__context *c = r->call->context;
    const ft__tile_row *tile = &ft__tiles[c->simd];
    const float *table[FT__RECURRENT_ROWS + FT__TILE_ROWS];
    size_t part = FT__RECURRENT_ROWS / tile->rows * tile->rows, i, row, parts;
    size_t direction, first;
    float *gates;
    parts = (r->rows + part - 1) / part;
    direction = (size_t)index / parts;
    first = (size_t)index % parts * part;
    if (r->rows - first < part) part = r->rows - first;
    gates = ft__recurrent_gates(r, direction) + first * r->width;
    for (i = 0; i < ft__pad_to(part, tile->rows); ++i) {
        row = first + (i < part ? i : part - 1);
        table[i] = r->call->input[0].value + (row % r->n * r->steps
            + ft__recurrent_time(r, direction, row / r->n)) * r->in;
    }
    for (i = 0; i < part; ++i)
        memcpy(gates + i * r->width, run->bias + direction * r->width, r->width * sizeof *gates);
    ft__multiply_rows(tile, table, part, 1, r->in, run->ih + direction * run->ih_next, r->width,
                      gates, r->width, true);
}

/* Where in the output a sample's `s`-th step of a direction lies. */
static size_t ft__recurrent_place(const ft__recurrent *r, size_t direction, size_t s,
                                  size_t sample)
{
    return (sample * r->steps + ft__recurrent_time(r, direction, s)) * r->directions * r->h
        + direction * r->h;
}

static ft__cell ft__recurrent_cell(const ft__recurrent_run *run, size_t direction, size_t s,
                                   size_t sample)
{
    const ft__recurrent *r = &run->r;
    size_t row = s * r->n + sample;
    float *states = ft__recurrent_states(r, direction), *extra = ft__recurrent_extra(r, direction);
    ft__cell cell;
    memset(&cell, 0, sizeof cell);
    cell.h = r->h;
    cell.x = ft__recurrent_gates(r, direction) + row * r->width;
    cell.add = run->add + (direction * r->n + sample) * r->width;
    cell.before = states + row * r->h;
    cell.state = states + (row + r->n) * r->h;
    if (r->gates == 3) cell.extra = extra + row * r->h;
    if (r->gates == 4) {
        cell.before = extra + row * r->h;
        cell.extra = extra + (row + r->n) * r->h;
    }
    cell.y = r->call->output.value + ft__recurrent_place(r, direction, s, sample);
    cell.dh = run->dh + (direction * r->n + sample) * r->h;
    cell.dc = run->dc + (direction * r->n + sample) * r->h;
    return cell;
}

/* Whether the `s`-th step that this direction takes is a real one of the sample. */
static bool ft__recurrent_real(const ft__recurrent *r, size_t direction, size_t s, size_t sample)
{
    const ft__tensor *lengths = r->lengths ? &r->call->input[r->lengths] : NULL;
    return ft__recurrent_time(r, direction, s) < ft__steps_of(lengths, sample, r->steps);
}

static void ft__recurrent_step(const ft__recurrent *r, const ft__cell *cell)
{
    int simd = r->call->context->simd;
    if (r->gates == 4) ft__lstm_step[simd](cell);
    else if (r->gates == 3) ft__gru_step[simd](cell);
    else if (r->o->relu) ft__rnn_relu_step[simd](cell);
    else ft__rnn_step[simd](cell);
}

/* A padded step: the state stays, the output is zero. */
static void ft__recurrent_skip(const ft__recurrent *r, const ft__cell *cell)
{
    size_t bytes = r->h * sizeof(float);
    memset(cell->y, 0, bytes);
    memcpy(cell->state, cell->state - r->n * r->h, bytes);
    if (r->gates == 4) memcpy(cell->extra, cell->before, bytes);
}

/* Some samples of one direction, through all steps. */
static void ft__recurrent_forward_unit(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    const ft__context *c = r->call->context;
    size_t direction = (size_t)index / run->chunks;
    size_t first = (size_t)index % run->chunks * run->chunk;
    size_t count = r->n - first < run->chunk ? r->n - first : run->chunk, s, i;
    float *add = run->add + (direction * r->n + first) * r->width;
    for (s = 0; s < r->steps; ++s) {
        const float *states = ft__recurrent_states(r, direction) + (s * r->n + first) * r->h;
        if (r->gates == 3 && !r->o->no_bias) /* inside of the reset gate's product */
            for (i = 0; i < count; ++i)
                memcpy(add + i * r->width + 2 * r->h,
                       ft__recurrent_weight(r, direction, FT__BIAS_HH)->value + 2 * r->h,
                       r->h * sizeof *add);
        if (r->gates == 3)
            for (i = 0; i < count; ++i)
                memset(add + i * r->width, 0, (r->o->no_bias ? 3 : 2) * r->h * sizeof *add);
        ft__recurrent_multiply(c, states, r->h, count, r->h, run->hh + direction * run->hh_next,
                               r->width, add, r->gates == 3);
        for (i = 0; i < count; ++i) {
            ft__cell cell = ft__recurrent_cell(run, direction, s, first + i);
            if (ft__recurrent_real(r, direction, s, first + i)) ft__recurrent_step(r, &cell);
            else ft__recurrent_skip(r, &cell);
        }
    }
}

/* The first states come from inputs [n, D H], or are zero; `back`: the last ones go there. */
static void ft__recurrent_ends(const ft__recurrent_run *run, bool back)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, which, features = r->directions * r->h, bytes = r->h * sizeof(float);
    for (d = 0; d < r->directions; ++d)
        for (which = 0; which < (r->gates == 4 ? 2u : 1u); ++which) {
            int input = which ? r->cell : r->hidden;
            float *inside = which ? ft__recurrent_extra(r, d) : ft__recurrent_states(r, d);
            if (back) inside += r->rows * r->h;
            for (i = 0; i < r->n; ++i, inside += r->h) {
                float *outside = input ? r->call->input[input].value + i * features + d * r->h
                                       : NULL;
                if (back) memcpy(outside, inside, bytes);
                else if (outside) memcpy(inside, outside, bytes);
                else memset(inside, 0, bytes);
            }
        }
}

/* bias_ih + bias_hh, but for the part that stands inside of the GRU's reset gate. */
static void ft__recurrent_bias(const ft__recurrent_run *run)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, both = r->gates == 3 ? 2 * r->h : r->width;
    for (d = 0; d < r->directions; ++d)
        for (i = 0; i < r->width; ++i) {
            float *to = &run->bias[d * r->width + i];
            *to = 0;
            if (r->o->no_bias) continue;
            *to = ft__recurrent_weight(r, d, FT__BIAS_IH)->value[i];
            if (i < both) *to += ft__recurrent_weight(r, d, FT__BIAS_HH)->value[i];
        }
}

static void ft__recurrent_forward(const ft__call *call)
{
    ft__recurrent_run run = ft__recurrent_start(call);
    ft__recurrent *r = &run.r;
    size_t rows = FT__RECURRENT_ROWS / ft__tiles[call->context->simd].rows
        * ft__tiles[call->context->simd].rows, d;
    float *packed = call->prepared ? call->prepared : run.packed;
    for (d = 0; d < r->directions && (call->prepare || !call->prepared); ++d) {
        float *to = packed + d * ft__recurrent_packed(r);
        ft__recurrent_pack(call->context, ft__recurrent_weight(r, d, FT__WEIGHT_IH), true, to);
        ft__recurrent_pack(call->context, ft__recurrent_weight(r, d, FT__WEIGHT_HH), true,
                           to + ft__recurrent_packed_ih(r));
    }
    run.ih = packed;
    run.hh = packed + ft__recurrent_packed_ih(r);
    run.ih_next = run.hh_next = ft__recurrent_packed(r);
    ft__recurrent_bias(&run);
    ft__recurrent_ends(&run, false);
    ft__parallel(call->context, (int)(r->directions * ((r->rows + rows - 1) / rows)),
                 ft__recurrent_project, &run);
    ft__parallel(call->context, (int)(r->directions * run.chunks), ft__recurrent_forward_unit,
                 &run);
    if (r->o->carry) ft__recurrent_ends(&run, true);
}

/* ---- Backward ---- */

static void ft__recurrent_back(const ft__recurrent *r, ft__cell *cell)
{
    int simd = r->call->context->simd;
    if (r->gates == 4) ft__lstm_back[simd](cell);
    else if (r->gates == 3) ft__gru_back[simd](cell);
    else if (r->o->relu) ft__rnn_relu_back[simd](cell);
    else ft__rnn_back[simd](cell);
}

/* From the last step to the first: the gates become the gradients of their sums. */
static void ft__recurrent_backward_unit(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t direction = (size_t)index / run->chunks;
    size_t first = (size_t)index % run->chunks * run->chunk;
    size_t count = r->n - first < run->chunk ? r->n - first : run->chunk, s, i, j;
    float *dh = run->dh + (direction * r->n + first) * r->h;
    memset(dh, 0, count * r->h * sizeof *dh);
    memset(run->dc + (direction * r->n + first) * r->h, 0, count * r->h * sizeof *dh);
    for (s = r->steps; s-- > 0;) {
        const float *side = r->gates == 3 ? run->add + (direction * r->n + first) * r->width
            : ft__recurrent_gates(r, direction) + (s * r->n + first) * r->width;
        for (i = 0; i < count; ++i) {
            ft__cell cell = ft__recurrent_cell(run, direction, s, first + i);
            const float *dy = r->call->output.gradient
                + ft__recurrent_place(r, direction, s, first + i);
            if (ft__recurrent_real(r, direction, s, first + i)) {
                for (j = 0; j < r->h; ++j) cell.dh[j] += dy[j];
                ft__recurrent_back(r, &cell);
                continue;
            }
            memset(cell.x, 0, r->width * sizeof(float));
            memset(cell.add, 0, r->width * sizeof(float));
            if (r->gates == 3) memset(cell.extra, 0, r->h * sizeof(float));
        }
        ft__recurrent_multiply(r->call->context, side, r->width, count, r->width,
                               run->hh + direction * run->hh_next, r->h, dh, true);
    }
}

typedef struct ft__recurrent_sum {  /* to[j] += sum over rows of from[row * stride + j] */
    const float *from;
    float *to;
    size_t rows, stride, columns;
} ft__recurrent_sum;

static void ft__recurrent_sum_columns(void *context, int index)
{
    const ft__recurrent_sum *job = (const ft__recurrent_sum *)context;
    size_t begin = (size_t)index * 64, end = begin + 64 < job->columns ? begin + 64 : job->columns;
    float sum[64] = {0};
    size_t row, j;
    for (row = 0; row < job->rows; ++row)
        for (j = begin; j < end; ++j) sum[j - begin] += job->from[row * job->stride + j];
    for (j = begin; j < end; ++j) job->to[j] += sum[j - begin];
}

static void ft__recurrent_add_sums(ft__context *c, const float *from, size_t rows, size_t stride,
                                   size_t columns, float *to)
{
    ft__recurrent_sum job;
    job.from = from;
    job.to = to;
    job.rows = rows;
    job.stride = stride;
    job.columns = columns;
    ft__parallel(c, (int)((columns + 63) / 64), ft__recurrent_sum_columns, &job);
}

/* to [out, in] += transposed d [rows, out] times x [rows, in] */
static void ft__recurrent_weight_sum(const ft__recurrent_run *run, const float *d, size_t stride,
                                     size_t out, const float *x, size_t in, float *to)
{
    size_t first, depth;
    for (first = 0; first < run->r.rows; first += depth) {
        depth = run->r.rows - first < FT__RECURRENT_DEPTH ? run->r.rows - first
                                                          : FT__RECURRENT_DEPTH;
        ft__gemm_parallel(run->r.call->context, out, in, depth,
                          ft__transposed(ft__rows_of(d + first * stride, stride)),
                          ft__rows_of(x + first * in, in), to, in, true, run->product);
    }
}

/* Gradients of weight_hh and bias_hh. The GRU's differ from the input's in the new gate. */
static void ft__recurrent_state_weights(const ft__recurrent_run *run, size_t d)
{
    const ft__recurrent *r = &run->r;
    const float *gates = ft__recurrent_gates(r, d), *states = ft__recurrent_states(r, d);
    const float *extra = ft__recurrent_extra(r, d);
    size_t shared = r->gates == 3 ? 2 * r->h : r->width;
    float *to = ft__recurrent_weight(r, d, FT__WEIGHT_HH)->gradient, *bias = NULL;
    if (!r->o->no_bias) bias = ft__recurrent_weight(r, d, FT__BIAS_HH)->gradient;
    if (to) ft__recurrent_weight_sum(run, gates, r->width, shared, states, r->h, to);
    if (to && r->gates == 3)
        ft__recurrent_weight_sum(run, extra, r->h, r->h, states, r->h, to + shared * r->h);
    if (bias) ft__recurrent_add_sums(r->call->context, gates, r->rows, r->width, shared, bias);
    if (bias && r->gates == 3)
        ft__recurrent_add_sums(r->call->context, extra, r->rows, r->h, r->h, bias + shared);
}

/* The inputs in the order in which this direction takes the steps. */
static void ft__recurrent_gather(void *context, int step)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t s = (size_t)step, t = ft__recurrent_time(r, run->direction, s), i;
    for (i = 0; i < r->n; ++i)
        memcpy(run->inputs + (s * r->n + i) * r->in,
               r->call->input[0].value + (i * r->steps + t) * r->in, r->in * sizeof(float));
}

/* The gradient of the input, for some rows, made in that order and added where they belong. */
static void ft__recurrent_input_rows(void *context, int index)
{
    const ft__recurrent_run *run = (const ft__recurrent_run *)context;
    const ft__recurrent *r = &run->r;
    size_t part = FT__RECURRENT_ROWS / ft__tiles[r->call->context->simd].rows
        * ft__tiles[r->call->context->simd].rows, first = (size_t)index * part, row, j;
    size_t count = r->rows - first < part ? r->rows - first : part;
    float *rows = run->inputs + first * r->in;
    ft__recurrent_multiply(r->call->context, ft__recurrent_gates(r, run->direction)
                           + first * r->width, r->width, count, r->width, run->ih, r->in, rows,
                           false);
    for (row = first; row < first + count; ++row, rows += r->in) {
        float *to = r->call->input[0].gradient + (row % r->n * r->steps
            + ft__recurrent_time(r, run->direction, row / r->n)) * r->in;
        for (j = 0; j < r->in; ++j) to[j] += rows[j];
    }
}

static void ft__recurrent_input_side(ft__recurrent_run *run, size_t d)
{
    const ft__recurrent *r = &run->r;
    ft__context *c = r->call->context;
    float *to = ft__recurrent_weight(r, d, FT__WEIGHT_IH)->gradient, *bias = NULL;
    float *packed = run->packed + r->directions * ft__packed_right(c, r->h, r->width);
    size_t rows = FT__RECURRENT_ROWS / ft__tiles[c->simd].rows * ft__tiles[c->simd].rows;
    run->direction = d;
    if (!r->o->no_bias) bias = ft__recurrent_weight(r, d, FT__BIAS_IH)->gradient;
    if (bias)
        ft__recurrent_add_sums(c, ft__recurrent_gates(r, d), r->rows, r->width, r->width, bias);
    if (to) {
        ft__parallel(c, (int)r->steps, ft__recurrent_gather, run);
        ft__recurrent_weight_sum(run, ft__recurrent_gates(r, d), r->width, r->width, run->inputs,
                                 r->in, to);
    }
    if (!r->call->input[0].gradient) return;
    ft__recurrent_pack(c, ft__recurrent_weight(r, d, FT__WEIGHT_IH), false, packed);
    run->ih = packed;
    ft__parallel(c, (int)((r->rows + rows - 1) / rows), ft__recurrent_input_rows, run);
}

/* The gradients of the first states. */
static void ft__recurrent_first_states(const ft__recurrent_run *run)
{
    const ft__recurrent *r = &run->r;
    size_t d, i, j, features = r->directions * r->h;
    float *hidden = r->hidden ? r->call->input[r->hidden].gradient : NULL;
    float *cell = r->cell ? r->call->input[r->cell].gradient : NULL;
    for (d = 0; d < r->directions; ++d)
        for (i = 0; i < r->n; ++i)
            for (j = 0; j < r->h; ++j) {
                size_t from = (d * r->n + i) * r->h + j, to = i * features + d * r->h + j;
                if (hidden) hidden[to] += run->dh[from];
                if (cell) cell[to] += run->dc[from];
            }
}

static void ft__recurrent_backward(const ft__call *call)
{
    ft__recurrent_run run = ft__recurrent_start(call);
    ft__recurrent *r = &run.r;
    size_t d;
    run.hh = run.packed;
    run.hh_next = ft__packed_right(call->context, r->h, r->width);
    for (d = 0; d < r->directions; ++d)
        ft__recurrent_pack(call->context, ft__recurrent_weight(r, d, FT__WEIGHT_HH), false,
                           run.packed + d * run.hh_next);
    ft__parallel(call->context, (int)(r->directions * run.chunks), ft__recurrent_backward_unit,
                 &run);
    for (d = 0; d < r->directions; ++d) {
        ft__recurrent_state_weights(&run, d);
        ft__recurrent_input_side(&run, d);
    }
    if (!r->o->carry) ft__recurrent_first_states(&run);
}

/* =============================================================================================
   [SECTION] 8.10 The rows
   ============================================================================================= */
#define FT__OP_ROW(name, low, high, reads, shape, forward, backward, costs, fields, device)       \
    {#name, low, high, reads, shape, forward, backward, costs, fields},
static const ft__row ft__rows[] = {FT__OPERATORS(FT__OP_ROW)};

/* =============================================================================================
   [SECTION] 9.1 OpenCL: the library
   The loader (libOpenCL.so.1 and the like) is opened when a device is asked for: a program that was
   built with FINETUNE_OPENCL starts where there is none. So is CLBlast, a library of matrix
   products. Without FINETUNE_OPENCL sections 9.1 to 9.4 are empty.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#ifdef __APPLE__
#include <OpenCL/opencl.h>
#else
#include <CL/cl.h>
#endif
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#elif FINETUNE__POSIX
#include <dlfcn.h>
#endif

/* X(result, name, parameters): every function of OpenCL that is called. */
#define FT__CL_ENTRIES(X)                                                                        \
    X(cl_int, clGetPlatformIDs, (cl_uint, cl_platform_id *, cl_uint *))                          \
    X(cl_int, clGetPlatformInfo, (cl_platform_id, cl_platform_info, size_t, void *, size_t *))   \
    X(cl_int, clGetDeviceIDs,                                                                    \
      (cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *))                      \
    X(cl_int, clGetDeviceInfo, (cl_device_id, cl_device_info, size_t, void *, size_t *))         \
    X(cl_context, clCreateContext,                                                               \
      (const cl_context_properties *, cl_uint, const cl_device_id *,                             \
       void (CL_CALLBACK *)(const char *, const void *, size_t, void *), void *, cl_int *))      \
    X(cl_int, clReleaseContext, (cl_context))                                                    \
    X(cl_command_queue, clCreateCommandQueue,                                                    \
      (cl_context, cl_device_id, cl_command_queue_properties, cl_int *))                         \
    X(cl_int, clReleaseCommandQueue, (cl_command_queue))                                         \
    X(cl_mem, clCreateBuffer, (cl_context, cl_mem_flags, size_t, void *, cl_int *))              \
    X(cl_mem, clCreateSubBuffer,                                                                 \
      (cl_mem, cl_mem_flags, cl_buffer_create_type, const void *, cl_int *))                     \
    X(cl_int, clReleaseMemObject, (cl_mem))                                                      \
    X(cl_program, clCreateProgramWithSource,                                                     \
      (cl_context, cl_uint, const char **, const size_t *, cl_int *))                            \
    X(cl_program, clCreateProgramWithBinary,                                                     \
      (cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **,        \
       cl_int *, cl_int *))                                                                      \
    X(cl_int, clBuildProgram,                                                                    \
      (cl_program, cl_uint, const cl_device_id *, const char *,                                  \
       void (CL_CALLBACK *)(cl_program, void *), void *))                                        \
    X(cl_int, clGetProgramInfo, (cl_program, cl_program_info, size_t, void *, size_t *))         \
    X(cl_int, clGetProgramBuildInfo,                                                             \
      (cl_program, cl_device_id, cl_program_build_info, size_t, void *, size_t *))               \
    X(cl_int, clReleaseProgram, (cl_program))                                                    \
    X(cl_kernel, clCreateKernel, (cl_program, const char *, cl_int *))                           \
    X(cl_int, clReleaseKernel, (cl_kernel))                                                      \
    X(cl_int, clSetKernelArg, (cl_kernel, cl_uint, size_t, const void *))                        \
    X(cl_int, clEnqueueNDRangeKernel,                                                            \
      (cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *,     \
       cl_uint, const cl_event *, cl_event *))                                                   \
    X(cl_int, clEnqueueReadBuffer,                                                               \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void *, cl_uint, const cl_event *,     \
       cl_event *))                                                                              \
    X(cl_int, clEnqueueWriteBuffer,                                                              \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint,                 \
       const cl_event *, cl_event *))                                                            \
    X(cl_int, clFinish, (cl_command_queue))

#define FT__CL_MEMBER(result, name, parameters) result (CL_API_CALL *name) parameters;
typedef struct ft__cl { void *library; FT__CL_ENTRIES(FT__CL_MEMBER) } ft__cl;

static void *ft__library_open(const char *name)
{
#if defined(_WIN32)
    return (void *)LoadLibraryA(name);
#elif FINETUNE__POSIX
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
#else
    (void)name;
    return NULL;
#endif
}

static void ft__library_close(void *library)
{
    if (!library) return;
#if defined(_WIN32)
    FreeLibrary((HMODULE)library);
#elif FINETUNE__POSIX
    dlclose(library);
#endif
}

/* Copies a function's address to `*to`, whatever its type; false: the library has none. */
static bool ft__library_find(void *library, const char *name, void *to)
{
#if defined(_WIN32)
    FARPROC found = GetProcAddress((HMODULE)library, name);
    memcpy(to, &found, sizeof found);
    return found != NULL;
#elif FINETUNE__POSIX
    void *found = dlsym(library, name); /* ISO C knows no cast from this to a function */
    memcpy(to, &found, sizeof found);
    return found != NULL;
#else
    (void)library;
    (void)name;
    (void)to;
    return false;
#endif
}

/* Opens the loader; false, with a line in `why`, where it or one of its functions is missing. */
static bool ft__cl_open(ft__cl *cl, const char *path, char *why, size_t size)
{
#if defined(_WIN32)
    const char *name = path ? path : "OpenCL.dll";
#elif defined(__APPLE__)
    const char *name = path ? path : "/System/Library/Frameworks/OpenCL.framework/OpenCL";
#else
    const char *name = path ? path : "libOpenCL.so.1";
#endif
    memset(cl, 0, sizeof *cl);
    cl->library = ft__library_open(name);
    if (!cl->library) {
        snprintf(why, size, "there is no OpenCL here (%s cannot be opened)", name);
        return false;
    }
#define FT__CL_FIND(result, function, parameters)                                                \
    if (!ft__library_find(cl->library, #function, (void *)&cl->function)) {                      \
        snprintf(why, size, "%s lacks %s", name, #function);                                     \
        ft__library_close(cl->library);                                                          \
        memset(cl, 0, sizeof *cl);                                                               \
        return false;                                                                            \
    }
    FT__CL_ENTRIES(FT__CL_FIND)
    return true;
}

/* The errors that a driver may return, by name. */
static const char *ft__cl_error_name(cl_int code)
{
    switch (code) {
#define FT__CL_ERROR(name) case name: return #name;
    FT__CL_ERROR(CL_DEVICE_NOT_FOUND) FT__CL_ERROR(CL_DEVICE_NOT_AVAILABLE)
    FT__CL_ERROR(CL_COMPILER_NOT_AVAILABLE) FT__CL_ERROR(CL_MEM_OBJECT_ALLOCATION_FAILURE)
    FT__CL_ERROR(CL_OUT_OF_RESOURCES) FT__CL_ERROR(CL_OUT_OF_HOST_MEMORY)
    FT__CL_ERROR(CL_BUILD_PROGRAM_FAILURE) FT__CL_ERROR(CL_INVALID_VALUE)
    FT__CL_ERROR(CL_INVALID_DEVICE) FT__CL_ERROR(CL_INVALID_CONTEXT)
    FT__CL_ERROR(CL_INVALID_COMMAND_QUEUE) FT__CL_ERROR(CL_INVALID_MEM_OBJECT)
    FT__CL_ERROR(CL_INVALID_BINARY) FT__CL_ERROR(CL_INVALID_PROGRAM)
    FT__CL_ERROR(CL_INVALID_PROGRAM_EXECUTABLE) FT__CL_ERROR(CL_INVALID_KERNEL_NAME)
    FT__CL_ERROR(CL_INVALID_KERNEL) FT__CL_ERROR(CL_INVALID_ARG_INDEX)
    FT__CL_ERROR(CL_INVALID_ARG_VALUE) FT__CL_ERROR(CL_INVALID_ARG_SIZE)
    FT__CL_ERROR(CL_INVALID_KERNEL_ARGS) FT__CL_ERROR(CL_INVALID_WORK_GROUP_SIZE)
    FT__CL_ERROR(CL_INVALID_BUFFER_SIZE) FT__CL_ERROR(CL_MISALIGNED_SUB_BUFFER_OFFSET)
    case -1001: return "no platform: no driver is installed";
    default: return "error";
    }
}

/* ---- Finding a device ---- */

/* One of the machine's OpenCL devices. */
typedef struct ft__cl_place {
    cl_platform_id platform;
    cl_device_id device;
    int platform_index, device_index;
    bool is_processor;
} ft__cl_place;

enum { FT__MOST_PLATFORMS = 16, FT__MOST_DEVICES = 16 };

/* Lists all devices; returns how many. A platform that fails has none. */
static int ft__cl_list(const ft__cl *cl, ft__cl_place *places, int most)
{
    cl_platform_id platforms[FT__MOST_PLATFORMS];
    cl_uint platform_count = 0, p, d;
    int count = 0;
    memset(platforms, 0, sizeof platforms);
    if (cl->clGetPlatformIDs(FT__MOST_PLATFORMS, platforms, &platform_count) != CL_SUCCESS)
        return 0;
    for (p = 0; p < platform_count && p < FT__MOST_PLATFORMS; ++p) {
        cl_device_id devices[FT__MOST_DEVICES];
        cl_uint device_count = 0;
        if (cl->clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, FT__MOST_DEVICES, devices,
                               &device_count) != CL_SUCCESS)
            continue;
        for (d = 0; d < device_count && d < FT__MOST_DEVICES && count < most; ++d) {
            cl_device_type type = CL_DEVICE_TYPE_CPU;
            ft__cl_place *place = &places[count++];
            cl->clGetDeviceInfo(devices[d], CL_DEVICE_TYPE, sizeof type, &type, NULL);
            place->platform = platforms[p];
            place->device = devices[d];
            place->platform_index = (int)p;
            place->device_index = (int)d;
            place->is_processor = !(type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR));
        }
    }
    return count;
}

static const char ft__no_devices[] = "OpenCL is here, but no device: no driver is installed";

/* A text about a device, "" when the driver does not tell. */
static void ft__cl_text(const ft__cl *cl, cl_device_id device, cl_device_info what, char *text,
                        size_t size)
{
    size_t length = 0;
    text[0] = 0;
    if (cl->clGetDeviceInfo(device, what, size - 1, text, &length) != CL_SUCCESS) text[0] = 0;
    text[length < size ? length : size - 1] = 0;
}

static uint64_t ft__cl_number(const ft__cl *cl, cl_device_id device, cl_device_info what)
{
    uint64_t number = 0; /* cl_ulong, size_t and cl_uint, all little-endian where there is OpenCL */
    if (cl->clGetDeviceInfo(device, what, sizeof number, &number, NULL) != CL_SUCCESS) return 0;
    return number;
}

/* Fills `devices` with up to `most` of the machine's devices; returns how many there are, or 0 with
   a line in `why`. */
static int ft__cl_describe(const char *library, ft_device_info *devices, int most, char *why,
                           size_t size)
{
    ft__cl_place places[FT__MOST_DEVICES * 2];
    ft__cl cl;
    int count, i;
    if (!ft__cl_open(&cl, library, why, size)) return 0;
    count = ft__cl_list(&cl, places, FT__MOST_DEVICES * 2);
    if (count == 0) snprintf(why, size, "%s", ft__no_devices);
    for (i = 0; i < count && i < most; ++i) {
        const ft__cl_place *place = &places[i];
        ft_device_info *to = &devices[i];
        memset(to, 0, sizeof *to);
        snprintf(to->device, sizeof to->device, "opencl:%d:%d", place->platform_index,
                 place->device_index);
        ft__cl_text(&cl, place->device, CL_DEVICE_NAME, to->name, sizeof to->name);
        ft__cl_text(&cl, place->device, CL_DRIVER_VERSION, to->driver, sizeof to->driver);
        if (cl.clGetPlatformInfo(place->platform, CL_PLATFORM_NAME, sizeof to->platform - 1,
                                 to->platform, NULL) != CL_SUCCESS) to->platform[0] = 0;
        to->memory = ft__cl_number(&cl, place->device, CL_DEVICE_GLOBAL_MEM_SIZE);
        to->compute_units = (int)ft__cl_number(&cl, place->device, CL_DEVICE_MAX_COMPUTE_UNITS);
        to->is_processor = place->is_processor;
    }
    ft__library_close(cl.library);
    return count;
}

/* The device that `wish` names: "gpu" and "auto" the first GPU, "opencl:P:D" that one. */
static bool ft__cl_choose(const ft__cl *cl, const char *wish, ft__cl_place *chosen, char *why,
                          size_t size)
{
    ft__cl_place places[FT__MOST_DEVICES * 2];
    int count = ft__cl_list(cl, places, FT__MOST_DEVICES * 2), platform = -1, device = -1, i;
    bool named = strncmp(wish, "opencl:", 7) == 0;
    if (named && sscanf(wish + 7, "%d:%d", &platform, &device) != 2) {
        snprintf(why, size, "it is not of the form opencl:PLATFORM:DEVICE, as opencl:0:0");
        return false;
    }
    for (i = 0; i < count; ++i) {
        bool fits = named ? places[i].platform_index == platform
            && places[i].device_index == device : !places[i].is_processor;
        if (!fits) continue;
        *chosen = places[i];
        return true;
    }
    if (count == 0) snprintf(why, size, "%s", ft__no_devices);
    else if (named) snprintf(why, size, "there is no such device among the %d that OpenCL knows",
                             count);
    else snprintf(why, size, "OpenCL knows no GPU here, only the processor itself");
    return false;
}

/* ---- CLBlast: one function, if the library is there ---- */
typedef int (*ft__clblast_gemm)(int layout, int a_transposed, int b_transposed, size_t m, size_t n,
                                size_t k, float alpha, cl_mem a, size_t a_at, size_t a_step,
                                cl_mem b, size_t b_at, size_t b_step, float beta, cl_mem out,
                                size_t out_at, size_t out_step, cl_command_queue *queue,
                                cl_event *event);
enum { FT__CLBLAST_ROWS = 101, FT__CLBLAST_PLAIN = 111, FT__CLBLAST_TRANSPOSED = 112 };
#endif /* FINETUNE_OPENCL */

/* =============================================================================================
   [SECTION] 9.2 OpenCL: memory
   Every operator reads and writes host memory by pointer; on a device each such pointer has a
   buffer that stands for it. Which of the two is newer is known, and values move only when the
   other side wants them: in a training step that runs on the device altogether, the batch goes up
   and the loss comes down. Values, gradients and what is kept for backward lie in one large buffer,
   where the plan says; parameters, their gradients and moments have buffers of their own.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL

enum { /* the kernels' ids */
#define FINETUNE_LINE
#define FINETUNE_CL(name, ...) FT__KERNEL_##name,
#include "kernels.cl"
#undef FINETUNE_CL
#undef FINETUNE_LINE
    FT__CHUNK_COUNT
};

enum { FT__HOST = 1, FT__DEVICE = 2 };
enum { FT__READ = 1, FT__WRITE = 2 };

typedef struct ft__copy {   /* of host memory on the device */
    const char *host;
    size_t bytes;
    cl_mem buffer;
    int newest;             /* FT__HOST, FT__DEVICE or both */
    bool planned;           /* lies in a plan's buffer */
} ft__copy;

typedef struct ft__planned { const char *host; size_t bytes; cl_mem buffer; } ft__planned;

enum { FT__SCRATCH_PACKED, FT__SCRATCH_SUMS, FT__SCRATCH_TERMS, FT__SCRATCH_COUNT };
/* Of the matrix products; the others have one form, whatever this says. */
enum { FT__FORM_PROCESSOR = -1, FT__FORM_PLAIN, FT__FORM_TILED, FT__FORM_WIDE, FT__FORM_CLBLAST,
       FT__FORM_COUNT };

/* What was found out about an operator with certain shapes. */
typedef struct ft__verdict {
    uint64_t key;
    int op, form;
    float error;            /* of the form: relative to the largest value */
    double device_seconds, host_seconds; /* of a sample, forward and backward; 0: no clock */
    char shape[48];         /* of the first input */
} ft__verdict;

struct ft__device {
    ft__cl cl;
    ft__cl_place place;
    char name[128], driver[64];
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    struct ft__loaded_kernel *kernels; /* section 9.3 */
    int kernel_count;
    ft__copy *copies;       /* in the order of their host addresses */
    int copy_count, copy_capacity;
    ft__planned planned[8];
    cl_mem scratch[FT__SCRATCH_COUNT], none;
    size_t scratch_bytes[FT__SCRATCH_COUNT];
    size_t bytes;           /* taken on the device */
    int form;               /* of the operator that runs now ... */
    int usual_form;         /* ... and before anything is known about it */
    void *clblast;
    ft__clblast_gemm gemm;
    ft__verdict *verdicts;
    int verdict_count, verdict_capacity;
    char said[FT__OP_COUNT]; /* operators whose fall-back was logged */
    bool unchecked;         /* for tests: kernels are not compared before they are used */
    bool checking;          /* a comparison is under way */
    bool lost;              /* a call failed: what lies on the device is not to be trusted */
};

static ft_status ft__cl_failed(ft__context *c, const char *function, const char *what, cl_int code)
{
    c->device->lost = true;
    return ft__fail(c, code == CL_MEM_OBJECT_ALLOCATION_FAILURE ? FT_MEMORY : FT_DEVICE,
                    "%s: %s%s%s failed: %s (%d)", c->device->name, function, *what ? " of " : "",
                    what, ft__cl_error_name(code), (int)code);
}

/* A buffer, or NULL with an error that names the bytes wanted and there. */
static cl_mem ft__cl_buffer(ft__context *c, size_t bytes)
{
    ft__device *d = c->device;
    cl_int code = CL_SUCCESS;
    uint64_t whole, largest;
    cl_mem buffer;
    if (!ft__ok(c)) return NULL;
    buffer = d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE, bytes < 16 ? 16 : bytes, NULL,
                                  &code);
    if (buffer && code == CL_SUCCESS) {
        d->bytes += bytes;
        return buffer;
    }
    d->lost = true; /* the step ends in its middle: some weights may have moved, others not */
    whole = ft__cl_number(&d->cl, d->place.device, CL_DEVICE_GLOBAL_MEM_SIZE);
    largest = ft__cl_number(&d->cl, d->place.device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    ft__fail(c, FT_MEMORY, "%s: no memory for %zu bytes: %zu are taken of %llu, and one piece may"
             " have %llu (%s, %d)", d->name, bytes, d->bytes, (unsigned long long)whole,
             (unsigned long long)largest, ft__cl_error_name(code), (int)code);
    return NULL;
}

/* The first copy whose host address is not below `host`. */
static int ft__copy_place(const ft__device *d, const void *host)
{
    int low = 0, high = d->copy_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if ((uintptr_t)d->copies[middle].host < (uintptr_t)host) low = middle + 1;
        else high = middle;
    }
    return low;
}

static ft__copy *ft__copy_of(const ft__device *d, const void *host)
{
    int at = ft__copy_place(d, host);
    return at < d->copy_count && d->copies[at].host == (const char *)host ? &d->copies[at] : NULL;
}

/* The part of a plan's buffer that stands for `host`, or a buffer of its own. */
static cl_mem ft__copy_buffer(ft__context *c, const void *host, size_t bytes, bool *planned)
{
    ft__device *d = c->device;
    size_t i;
    *planned = false;
    for (i = 0; i < sizeof d->planned / sizeof d->planned[0]; ++i) {
        const ft__planned *p = &d->planned[i];
        size_t offset = (size_t)((uintptr_t)host - (uintptr_t)p->host);
        cl_buffer_region region;
        cl_int code = CL_SUCCESS;
        cl_mem part;
        if (!p->buffer || (uintptr_t)host < (uintptr_t)p->host || offset >= p->bytes) continue;
        region.origin = offset;
        region.size = p->bytes - offset;
        part = d->cl.clCreateSubBuffer(p->buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION,
                                       &region, &code);
        *planned = true;
        if (!part || code != CL_SUCCESS) ft__cl_failed(c, "clCreateSubBuffer", "", code);
        return part;
    }
    return ft__cl_buffer(c, bytes);
}

static ft__copy *ft__copy_make(ft__context *c, const void *host, size_t bytes)
{
    ft__device *d = c->device;
    ft__copy copy;
    int at;
    memset(&copy, 0, sizeof copy);
    copy.host = (const char *)host;
    copy.bytes = bytes;
    copy.newest = FT__HOST;
    copy.buffer = ft__copy_buffer(c, host, bytes, &copy.planned);
    if (!copy.buffer) return NULL;
    if (d->copy_count == d->copy_capacity) {
        int capacity = d->copy_capacity ? 2 * d->copy_capacity : 256;
        ft__copy *copies = (ft__copy *)ft__grow(c, d->copies, (size_t)d->copy_count,
                                                (size_t)capacity, sizeof *copies);
        if (!copies) {
            d->cl.clReleaseMemObject(copy.buffer);
            return NULL;
        }
        d->copies = copies;
        d->copy_capacity = capacity;
    }
    at = ft__copy_place(d, host);
    memmove(d->copies + at + 1, d->copies + at,
            (size_t)(d->copy_count - at) * sizeof *d->copies);
    d->copies[at] = copy;
    d->copy_count += 1;
    return &d->copies[at];
}

static void ft__copy_down(ft__context *c, ft__copy *copy, size_t bytes)
{
    ft__device *d = c->device;
    cl_int code;
    if (copy->newest & FT__HOST) return;
    if (!copy->planned && bytes > copy->bytes) bytes = copy->bytes; /* all that ever went up */
    code = d->cl.clEnqueueReadBuffer(d->queue, copy->buffer, CL_TRUE, 0, bytes,
                                     (void *)(uintptr_t)copy->host, 0, NULL, NULL);
    if (code != CL_SUCCESS) ft__cl_failed(c, "clEnqueueReadBuffer", "", code);
    copy->newest = FT__HOST | FT__DEVICE;
}

/* Called for every block of host memory that is released: drops what stood for it. */
static void ft__device_forget(ft__context *c, const void *memory, size_t bytes)
{
    ft__device *d = c->device;
    int from = ft__copy_place(d, memory), to, i;
    size_t p;
    to = ft__copy_place(d, (const void *)((uintptr_t)memory + bytes));
    for (i = from; i < to; ++i) {
        if (!d->copies[i].planned) d->bytes -= d->copies[i].bytes;
        d->cl.clReleaseMemObject(d->copies[i].buffer);
    }
    if (to > from) {
        memmove(d->copies + from, d->copies + to,
                (size_t)(d->copy_count - to) * sizeof *d->copies);
        d->copy_count -= to - from;
    }
    for (p = 0; p < sizeof d->planned / sizeof d->planned[0]; ++p) {
        ft__planned *planned = &d->planned[p];
        if (!planned->buffer || (uintptr_t)planned->host < (uintptr_t)memory
            || (uintptr_t)planned->host >= (uintptr_t)memory + bytes) continue;
        d->cl.clReleaseMemObject(planned->buffer);
        d->bytes -= planned->bytes;
        memset(planned, 0, sizeof *planned);
    }
}

/* The buffer that stands for host memory, for a kernel that reads it, writes it, or both. */
static cl_mem ft__on_device(ft__context *c, const void *host, size_t bytes, int access)
{
    ft__device *d = c->device;
    ft__copy *copy;
    cl_int code;
    if (!ft__ok(c)) return NULL;
    copy = ft__copy_of(d, host);
    if (copy && !copy->planned && copy->bytes < bytes) { /* it stood for a smaller batch */
        ft__copy_down(c, copy, copy->bytes);
        ft__device_forget(c, host, 1);
        copy = NULL;
    }
    if (!copy) copy = ft__copy_make(c, host, bytes);
    if (!copy) return NULL;
    if ((access & FT__READ) && !(copy->newest & FT__DEVICE)) {
        code = d->cl.clEnqueueWriteBuffer(d->queue, copy->buffer, CL_TRUE, 0, bytes, host, 0, NULL,
                                          NULL);
        if (code != CL_SUCCESS) {
            ft__cl_failed(c, "clEnqueueWriteBuffer", "", code);
            return NULL;
        }
        copy->newest = FT__HOST | FT__DEVICE;
    }
    if (access & FT__WRITE) copy->newest = FT__DEVICE;
    return copy->buffer;
}

/* Scratch memory of the device: what a kernel leaves to the next one. */
static cl_mem ft__device_scratch(ft__context *c, int which, size_t bytes)
{
    ft__device *d = c->device;
    if (!ft__ok(c)) return NULL;
    if (d->scratch_bytes[which] >= bytes) return d->scratch[which];
    if (d->scratch[which]) {
        d->cl.clReleaseMemObject(d->scratch[which]);
        d->bytes -= d->scratch_bytes[which];
    }
    d->scratch_bytes[which] = 0;
    d->scratch[which] = ft__cl_buffer(c, bytes);
    if (d->scratch[which]) d->scratch_bytes[which] = bytes;
    return d->scratch[which];
}
#endif /* FINETUNE_OPENCL */

/* ---- What the other sections call; nothing to do without a device ---- */

/* Brings host memory up to date before it is read there. */
static void ft__to_host(ft__context *c, const void *host, size_t bytes)
{
#ifdef FINETUNE_OPENCL
    ft__copy *copy = c->device ? ft__copy_of(c->device, host) : NULL;
    if (copy) ft__copy_down(c, copy, bytes);
#else
    (void)c;
    (void)host;
    (void)bytes;
#endif
}

/* Host memory was written: what stands for it on the device is old. */
static void ft__host_wrote(ft__context *c, const void *host)
{
#ifdef FINETUNE_OPENCL
    ft__copy *copy = c->device ? ft__copy_of(c->device, host) : NULL;
    if (copy) copy->newest = FT__HOST;
#else
    (void)c;
    (void)host;
#endif
}

/* Before parameters, gradients or moments are read on the host: brings them all up to date there;
   where they are written too, lets the device fetch them anew. */
static void ft__host_takes_weights(ft__context *c, bool writes)
{
#ifdef FINETUNE_OPENCL
    int i;
    for (i = 0; c->device && i < c->device->copy_count; ++i) {
        ft__copy *copy = &c->device->copies[i];
        if (copy->planned) continue;
        ft__copy_down(c, copy, copy->bytes);
        if (writes) copy->newest = FT__HOST;
    }
#else
    (void)c;
    (void)writes;
#endif
}

/* Whether a call failed since the device was opened: the weights on it may be half of a step's. */
static bool ft__device_is_lost(const ft__context *c)
{
#ifdef FINETUNE_OPENCL
    return c->device && c->device->lost;
#else
    (void)c;
    return false;
#endif
}

/* The device gets one buffer for a plan's memory, in which everything lies as on the host. */
static void ft__device_plan(ft__context *c, const void *host, size_t bytes)
{
#ifdef FINETUNE_OPENCL
    size_t i;
    for (i = 0; c->device && ft__ok(c) && bytes > 0
         && i < sizeof c->device->planned / sizeof c->device->planned[0]; ++i) {
        ft__planned *planned = &c->device->planned[i];
        if (planned->buffer) continue;
        planned->buffer = ft__cl_buffer(c, bytes);
        planned->host = (const char *)host;
        planned->bytes = bytes;
        return;
    }
#else
    (void)c;
    (void)host;
    (void)bytes;
#endif
}

/* =============================================================================================
   [SECTION] 9.2.1 OpenCL: the program
   kernels.cl, which was compiled in as text, or the file ft_desc.kernels_path, is compiled by the
   driver when a device is opened. With ft_desc.cache what it made of it is kept there for the next
   start, in a file of the library's own, in the machine's byte order:
       "ftprog1\0"; a hash of device, driver and source, the binary's bytes, and a hash of those
       two and of the binary, uint64 each; the binary
   A file that was made for anything else, or is damaged, is made anew, with a line in the log.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
typedef struct ft__kernel_text { int line; const char *name, *text; } ft__kernel_text;

static const ft__kernel_text ft__kernel_texts[] = {
#define FINETUNE_LINE {__LINE__,
#define FINETUNE_CL(name, ...) #name, #__VA_ARGS__},
#include "kernels.cl"
#undef FINETUNE_CL
#undef FINETUNE_LINE
};

/* The program's text, in pieces. */
typedef struct ft__source {
    char lines[FT__CHUNK_COUNT][40];
    const char *parts[3 * FT__CHUNK_COUNT];
    cl_uint count;
    char *file;             /* the text of ft_desc.kernels_path; NULL: the chunks compiled in */
} ft__source;

static bool ft__source_make(ft__context *c, ft__source *source)
{
    static const char pattern[] = "#line %d \"kernels.cl\"\n";
    size_t bytes;
    int i;
    memset(source, 0, sizeof *source);
    if (c->desc.kernels_path) {
        source->file = (char *)ft__read_file(c, c->desc.kernels_path, &bytes); /* ends with a 0 */
        snprintf(source->lines[0], sizeof source->lines[0], pattern, 1);
        source->parts[0] = source->lines[0];
        source->parts[1] = source->file;
        source->count = 2;
        return source->file != NULL;
    }
    for (i = 0; i < FT__CHUNK_COUNT; ++i) {
        snprintf(source->lines[i], sizeof source->lines[i], pattern, ft__kernel_texts[i].line);
        source->parts[3 * i] = source->lines[i];
        source->parts[3 * i + 1] = ft__kernel_texts[i].text;
        source->parts[3 * i + 2] = "\n";
    }
    source->count = 3 * FT__CHUNK_COUNT;
    return true;
}

/* ---- A build that fails ---- */

/* The line in a compiler's "FILE:LINE:COLUMN: error: ..."; 0: there is none. */
static int ft__line_of_error(const char *at)
{
    for (; *at && *at != '\n'; ++at)
        if (at[0] == ':' && at[1] >= '0' && at[1] <= '9') return atoi(at + 1);
    return 0;
}

/* The chunk in which a line lies: its name, and the line where it begins. */
static void ft__chunk_at(const ft__source *source, int line, char name[64], int *first)
{
    const char *at = source->file;
    int i;
    snprintf(name, 64, "?");
    *first = line;
    for (i = 0; !source->file && i < FT__CHUNK_COUNT; ++i)
        if (ft__kernel_texts[i].line <= line) {
            snprintf(name, 64, "%s", ft__kernel_texts[i].name);
            *first = ft__kernel_texts[i].line;
        }
    for (i = 1; at && i <= line; ++i) {
        if (sscanf(at, "FINETUNE_LINE FINETUNE_CL(%63[a-z0-9_]", name) == 1) *first = i;
        at = strchr(at, '\n');
        if (at) at += 1;
    }
}

/* The driver's log from the first error on, with its kernel in front. */
static void ft__build_failed(ft__context *c, const ft__source *source, cl_program program,
                             cl_int code)
{
    ft__device *d = c->device;
    const char *path = c->desc.kernels_path ? c->desc.kernels_path : "kernels.cl", *at;
    char *log = (char *)ft__allocate(c, 1 << 16, 1), name[64];
    int line, first;
    if (!log) return;
    d->cl.clGetProgramBuildInfo(program, d->place.device, CL_PROGRAM_BUILD_LOG, (1 << 16) - 1, log,
                                NULL);
    at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n') --at;
    if (!at) at = log;
    line = ft__line_of_error(at);
    ft__chunk_at(source, line, name, &first);
    d->lost = true;
    if (line > 0)
        ft__fail(c, FT_DEVICE, "%s cannot build kernel %s, which begins at line %d of %s%s: %.700s",
                 d->name, name, first, path, source->file ? ""
                 : " (ft_desc.kernels_path gives the true line)", at);
    else
        ft__fail(c, FT_DEVICE, "%s cannot build %s: %s (%d): %.700s", d->name, path,
                 ft__cl_error_name(code), (int)code, at);
    ft__release(c, log);
}

static cl_program ft__program_of_source(ft__context *c, const ft__source *source)
{
    ft__device *d = c->device;
    cl_int code = CL_SUCCESS;
    const char *parts[3 * FT__CHUNK_COUNT]; /* OpenCL wants a pointer to what is not const */
    cl_program program;
    memcpy(parts, source->parts, sizeof parts);
    program = d->cl.clCreateProgramWithSource(d->context, source->count, parts, NULL, &code);
    if (!program || code != CL_SUCCESS) {
        ft__cl_failed(c, "clCreateProgramWithSource", "", code);
        return NULL;
    }
    code = d->cl.clBuildProgram(program, 1, &d->place.device, "", NULL, NULL);
    if (code == CL_SUCCESS) return program;
    ft__build_failed(c, source, program, code);
    d->cl.clReleaseProgram(program);
    return NULL;
}

/* ---- Kept for the next start ---- */
enum { FT__PROGRAM_HEADER = 32, FT__MOST_PROGRAM = 1 << 28 };

typedef struct ft__program_file {
    uint64_t made_from;
    char path[1200], partial[1210];
} ft__program_file;

/* One file a device: another driver's or version's program takes its place. */
static bool ft__program_file_make(ft__context *c, const ft__source *source, ft__program_file *file)
{
    ft__device *d = c->device;
    uint64_t device = ft__hash_bytes(sizeof(void *), d->name, strlen(d->name));
    cl_uint i;
    int length;
    if (!c->desc.cache) return false;
    file->made_from = ft__hash_bytes(device, d->driver, strlen(d->driver));
    for (i = 0; i < source->count; ++i)
        file->made_from = ft__hash_bytes(file->made_from, source->parts[i],
                                         strlen(source->parts[i]));
    length = snprintf(file->path, sizeof file->path, "%s/opencl-%016llx.program", c->desc.cache,
                      (unsigned long long)device);
    snprintf(file->partial, sizeof file->partial, "%s.partial", file->path);
    return length > 0 && (size_t)length < sizeof file->path;
}

static void ft__program_header(const ft__program_file *file, const unsigned char *binary,
                               size_t bytes, unsigned char header[FT__PROGRAM_HEADER])
{
    uint64_t numbers[3];
    numbers[0] = file->made_from;
    numbers[1] = bytes;
    numbers[2] = ft__hash_bytes(file->made_from ^ ft__mix(bytes), binary, bytes);
    memcpy(header, "ftprog1", 8);
    memcpy(header + 8, numbers, sizeof numbers);
}

/* The file's bytes, or NULL: there is none, or it cannot be read. */
static unsigned char *ft__program_read(ft__context *c, const char *path, size_t *bytes)
{
    const ft_files *files = &c->desc.files;
    void *file = files->open(files->user, path, false);
    unsigned char *content = NULL;
    int64_t size;
    if (!file) return NULL;
    size = files->size(files->user, file);
    if (size >= 0 && size <= FT__MOST_PROGRAM)
        content = (unsigned char *)ft__allocate(c, (size_t)size + 1, 1);
    *bytes = content ? (size_t)size : 0;
    if (content) *bytes = files->read(files->user, file, 0, content, *bytes);
    files->close(files->user, file);
    return content;
}

/* The program that was kept; NULL: it is to be compiled. */
static cl_program ft__program_of_file(ft__context *c, const ft__program_file *file)
{
    ft__device *d = c->device;
    unsigned char want[FT__PROGRAM_HEADER], *content;
    const unsigned char *binary;
    size_t bytes = 0;
    cl_int code = CL_SUCCESS, loaded = CL_SUCCESS;
    cl_program program = NULL;
    content = ft__program_read(c, file->path, &bytes);
    if (!content) return NULL;
    binary = content + FT__PROGRAM_HEADER;
    bytes = bytes > FT__PROGRAM_HEADER ? bytes - FT__PROGRAM_HEADER : 0;
    ft__program_header(file, binary, bytes, want);
    if (bytes > 0 && memcmp(content, want, sizeof want) == 0) {
        program = d->cl.clCreateProgramWithBinary(d->context, 1, &d->place.device, &bytes, &binary,
                                                  &loaded, &code);
        if (program && (code != CL_SUCCESS || loaded != CL_SUCCESS
            || d->cl.clBuildProgram(program, 1, &d->place.device, "", NULL, NULL) != CL_SUCCESS)) {
            d->cl.clReleaseProgram(program);
            program = NULL;
        }
        ft__log(c, program ? "%s: the compiled kernels are taken from it"
                           : "%s: the driver refuses it: the kernels are compiled anew",
                file->path);
    } else ft__log(c, "%s: made for another driver or version, or damaged: the kernels are compiled"
                   " anew", file->path);
    ft__release(c, content);
    return program;
}

/* Writes it aside, then renames. What fails costs the next start time, and is no error. */
static void ft__program_keep(ft__context *c, const ft__program_file *file)
{
    ft__device *d = c->device;
    const ft_files *files = &c->desc.files;
    unsigned char header[FT__PROGRAM_HEADER], *binary = NULL;
    size_t bytes = 0;
    void *to = NULL;
    bool written = false;
    if (d->cl.clGetProgramInfo(d->program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL)
        == CL_SUCCESS && bytes > 0 && bytes < FT__MOST_PROGRAM)
        binary = (unsigned char *)ft__allocate(c, bytes, 1);
    if (binary && d->cl.clGetProgramInfo(d->program, CL_PROGRAM_BINARIES, sizeof binary, &binary,
                                         NULL) == CL_SUCCESS)
        to = files->open(files->user, file->partial, true);
    if (to) {
        ft__program_header(file, binary, bytes, header);
        written = files->write(files->user, to, header, sizeof header) == sizeof header
            && files->write(files->user, to, binary, bytes) == bytes;
        written = files->close(files->user, to) && written;
        written = written && files->rename(files->user, file->partial, file->path);
        if (!written) files->remove(files->user, file->partial);
    }
    if (!written) ft__log(c, "%s: the compiled kernels cannot be kept there", file->path);
    ft__release(c, binary);
}

static ft_status ft__program_build(ft__context *c)
{
    ft__device *d = c->device;
    ft__source source;
    ft__program_file file;
    bool kept;
    if (!ft__source_make(c, &source)) return c->status;
    kept = ft__program_file_make(c, &source, &file);
    if (kept) d->program = ft__program_of_file(c, &file);
    if (!d->program && ft__ok(c)) {
        d->program = ft__program_of_source(c, &source);
        if (d->program && kept) ft__program_keep(c, &file);
    }
    ft__release(c, source.file);
    return c->status;
}
#endif /* FINETUNE_OPENCL */

/* =============================================================================================
   [SECTION] 9.3 OpenCL: kernels
   Kernels are started by name: ft__start, their arguments, ft__go.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
struct ft__loaded_kernel { const char *name; cl_kernel kernel; };

enum { FT__MOST_KERNELS = 64 };

/* ---- Starting a kernel: ft__start, its arguments in order, ft__go ---- */
typedef struct ft__launch {
    ft__context *context;
    const char *name;
    cl_kernel kernel;
    cl_uint next;           /* argument */
} ft__launch;

static ft__launch ft__start(ft__context *c, const char *name)
{
    ft__device *d = c->device;
    ft__launch launch;
    cl_int code = CL_SUCCESS;
    int i;
    memset(&launch, 0, sizeof launch);
    launch.context = c;
    launch.name = name;
    if (!ft__ok(c)) return launch;
    for (i = 0; i < d->kernel_count; ++i)
        if (strcmp(d->kernels[i].name, name) == 0) {
            launch.kernel = d->kernels[i].kernel;
            return launch;
        }
    launch.kernel = d->cl.clCreateKernel(d->program, name, &code);
    if (!launch.kernel || code != CL_SUCCESS || d->kernel_count == FT__MOST_KERNELS) {
        ft__cl_failed(c, "clCreateKernel", name, code);
        return launch;
    }
    d->kernels[d->kernel_count].name = name;
    d->kernels[d->kernel_count++].kernel = launch.kernel;
    return launch;
}

static void ft__pass(ft__launch *l, const void *value, size_t bytes)
{
    cl_int code;
    if (!ft__ok(l->context)) return;
    code = l->context->device->cl.clSetKernelArg(l->kernel, l->next++, bytes, value);
    if (code != CL_SUCCESS) ft__cl_failed(l->context, "clSetKernelArg", l->name, code);
}

static void ft__pass_buffer(ft__launch *l, cl_mem buffer) { ft__pass(l, &buffer, sizeof buffer); }
static void ft__pass_float(ft__launch *l, float value) { ft__pass(l, &value, sizeof value); }

static void ft__pass_int(ft__launch *l, size_t value)
{
    cl_int number = (cl_int)value;
    ft__pass(l, &number, sizeof number);
}

/* Host memory of so many numbers; NULL becomes a buffer that is never looked at. */
static void ft__pass_memory(ft__launch *l, const void *host, size_t count, int access)
{
    ft__context *c = l->context;
    ft__pass_buffer(l, host ? ft__on_device(c, host, count * sizeof(float), access)
                            : c->device->none);
}

/* Runs it over at least so many work-items, in groups of `group` (and 1 in further dimensions). */
static void ft__go_grid(ft__launch *l, size_t x, size_t y, size_t z, size_t group_x,
                        size_t group_y)
{
    ft__device *d = l->context->device;
    size_t global[3], local[3];
    cl_int code;
    local[0] = group_x;
    local[1] = group_y;
    local[2] = 1;
    global[0] = (x + group_x - 1) / group_x * group_x;
    global[1] = (y + group_y - 1) / group_y * group_y;
    global[2] = z;
    if (!ft__ok(l->context) || x == 0 || y == 0 || z == 0) return;
    code = d->cl.clEnqueueNDRangeKernel(d->queue, l->kernel, 3, NULL, global, local, 0, NULL, NULL);
    if (code != CL_SUCCESS) ft__cl_failed(l->context, "clEnqueueNDRangeKernel", l->name, code);
}

static void ft__go(ft__launch *l, size_t count) { ft__go_grid(l, count, 1, 1, 64, 1); }

static void ft__device_fill(ft__context *c, float *host, size_t count, float value)
{
    ft__launch l = ft__start(c, "fill");
    ft__pass_memory(&l, host, count, FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_float(&l, value);
    ft__go(&l, count);
}

/* ---- Opening and closing ---- */

/* CLBlast keeps the programs that it compiled until the process ends; some drivers are gone by
   then, and the process would end with a crash. */
static void ft__clblast_close(ft__device *d)
{
    int (*clear)(void) = NULL;
    if (d->clblast && ft__library_find(d->clblast, "CLBlastClearCache", (void *)&clear)) clear();
    ft__library_close(d->clblast);
}

static void ft__device_close(ft__context *c)
{
    ft__device *d = c->device;
    int i;
    if (!d) return;
    if (d->queue) d->cl.clFinish(d->queue);
    ft__clblast_close(d);
    c->forget = NULL;
    if (d->context) ft__device_forget(c, NULL, UINTPTR_MAX);
    for (i = 0; i < FT__SCRATCH_COUNT; ++i)
        if (d->scratch[i]) d->cl.clReleaseMemObject(d->scratch[i]);
    if (d->none) d->cl.clReleaseMemObject(d->none);
    for (i = 0; i < d->kernel_count; ++i) d->cl.clReleaseKernel(d->kernels[i].kernel);
    if (d->program) d->cl.clReleaseProgram(d->program);
    if (d->queue) d->cl.clReleaseCommandQueue(d->queue);
    if (d->context) d->cl.clReleaseContext(d->context);
    ft__library_close(d->cl.library);
    ft__release(c, d->verdicts);
    ft__release(c, d->copies);
    ft__release(c, d->kernels);
    c->device = NULL;
    ft__release(c, d);
}

static ft_status ft__device_start(ft__context *c)
{
    ft__device *d = c->device;
    cl_context_properties properties[3];
    cl_int code = CL_SUCCESS;
    properties[0] = CL_CONTEXT_PLATFORM;
    properties[1] = (cl_context_properties)d->place.platform;
    properties[2] = 0;
    ft__cl_text(&d->cl, d->place.device, CL_DEVICE_NAME, d->name, sizeof d->name);
    ft__cl_text(&d->cl, d->place.device, CL_DRIVER_VERSION, d->driver, sizeof d->driver);
    d->kernels = (struct ft__loaded_kernel *)ft__allocate(c, FT__MOST_KERNELS, sizeof *d->kernels);
    d->form = d->usual_form = d->place.is_processor ? FT__FORM_WIDE : FT__FORM_TILED;
    if (ft__cl_number(&d->cl, d->place.device, CL_DEVICE_MEM_BASE_ADDR_ALIGN)
        > 8 * FT__DEVICE_ALIGNMENT)
        return ft__fail(c, FT_DEVICE, "%s: buffers must be aligned to more than %d bytes", d->name,
                        FT__DEVICE_ALIGNMENT);
    d->context = d->cl.clCreateContext(properties, 1, &d->place.device, NULL, NULL, &code);
    if (!d->context || code != CL_SUCCESS) return ft__cl_failed(c, "clCreateContext", "", code);
    d->queue = d->cl.clCreateCommandQueue(d->context, d->place.device, 0, &code);
    if (!d->queue || code != CL_SUCCESS) return ft__cl_failed(c, "clCreateCommandQueue", "", code);
    d->none = ft__cl_buffer(c, 16);
    return ft__ok(c) ? ft__program_build(c) : c->status;
}

static void ft__device_find_clblast(ft__context *c)
{
    ft__device *d = c->device;
    const char *name = c->desc.clblast_library ? c->desc.clblast_library : "libclblast.so.1";
    d->clblast = ft__library_open(name);
    if (d->clblast) ft__library_find(d->clblast, "CLBlastSgemm", (void *)&d->gemm);
}
#endif /* FINETUNE_OPENCL */

/* Opens what ft_desc.device names. "auto" stays on the processor, with a line in the log, where
   there is no GPU or it does not work; any other wish is an error then. */
static void ft__device_open(ft__context *c)
{
    const char *wish = c->desc.device;
#ifdef FINETUNE_OPENCL
    char why[1100];
    ft__device *d;
    bool found;
    if (!wish || strcmp(wish, "cpu") == 0 || !ft__ok(c)) return;
    if (strcmp(wish, "auto") != 0 && strcmp(wish, "gpu") != 0 && strncmp(wish, "opencl:", 7) != 0) {
        ft__fail(c, FT_UNSUPPORTED, "device %s: there are cpu, gpu, auto and opencl:PLATFORM:"
                 "DEVICE", wish);
        return;
    }
    d = c->device = (ft__device *)ft__allocate(c, 1, sizeof *d);
    if (!d) return;
    found = ft__cl_open(&d->cl, c->desc.opencl_library, why, sizeof why)
        && ft__cl_choose(&d->cl, wish, &d->place, why, sizeof why);
    if (found && ft__device_start(c) == FT_OK) {
        c->forget = ft__device_forget;
        ft__device_find_clblast(c);
        ft__log(c, "device opencl:%d:%d: %s", d->place.platform_index, d->place.device_index,
                d->name);
        return;
    }
    if (found) {
        snprintf(why, sizeof why, "%s", c->text);
        c->status = FT_OK;
    }
    ft__device_close(c);
    if (strcmp(wish, "auto") == 0) ft__log(c, "device auto: the processor is used: %s", why);
    else ft__fail(c, found ? FT_DEVICE : FT_UNSUPPORTED, "device %s: %s", wish, why);
#else
    if (!wish || strcmp(wish, "cpu") == 0) return;
    if (strcmp(wish, "auto") == 0)
        ft__log(c, "device auto: the processor is used: this build is without OpenCL"
                " (FINETUNE_OPENCL)");
    else ft__fail(c, FT_UNSUPPORTED, "device %s: this build is without OpenCL (FINETUNE_OPENCL)",
                  wish);
#endif
}

/* =============================================================================================
   [SECTION] 9.4 OpenCL: operators
   What section 8 does on the processor: the same inputs, options and results, and the same layout.
   Each function starts kernels of kernels.cl and waits for nothing.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
static size_t ft__blocks_of(size_t count, size_t block) { return (count + block - 1) / block; }

/* For kernels that only add: a fresh gradient is set to zero first. */
static float *ft__started(const ft__call *call, int i)
{
    const ft__tensor *t = &call->input[i];
    if (t->gradient && t->fresh) ft__device_fill(call->context, t->gradient, ft__count(t), 0);
    return t->gradient;
}

static void ft__pass_gradient(ft__launch *l, const ft__tensor *t)
{
    ft__pass_memory(l, t->gradient, ft__count(t), t->fresh ? FT__WRITE : FT__READ | FT__WRITE);
}

static void ft__pass_value(ft__launch *l, const ft__tensor *t)
{
    ft__pass_memory(l, t->value, ft__count(t), FT__READ);
}

/* ---- Activations ---- */

/* The kernels' number of an activation, -1 for none, and its one option. */
static int ft__kernel_activation(int op) { return ft__can_fuse(op) ? op - FT__OP_sigmoid : -1; }

static float ft__kernel_option(int op, const ft_activation_options *o)
{
    if (op == FT__OP_leaky_relu) return o->slope != 0 ? o->slope : 0.01f;
    if (op == FT__OP_elu) return o->alpha != 0 ? o->alpha : 1.0f;
    return op == FT__OP_gelu && o->tanh_approximation ? 1.0f : 0.0f;
}

static void ft__pass_activation(ft__launch *l, int op, const ft__options *options)
{
    ft__pass_int(l, (size_t)ft__kernel_activation(op));
    ft__pass_float(l, options ? ft__kernel_option(op, &options->activation) : 0);
}

static void ft__cl_activation_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "activation_forward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_memory(&l, call->output.value, count, FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_activation(&l, call->node->op, &call->node->options);
    ft__go(&l, count);
}

static void ft__cl_slopes(const ft__call *call, int op, const ft__options *options,
                          const ft__tensor *kept, float *dx, bool fresh)
{
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "activation_backward");
    ft__pass_value(&l, kept);
    ft__pass_memory(&l, call->output.gradient, count, FT__READ);
    ft__pass_memory(&l, dx, count, fresh && dx != call->output.gradient ? FT__WRITE
                                                                        : FT__READ | FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_activation(&l, op, options);
    ft__pass_int(&l, fresh);
    ft__go(&l, count);
}

static void ft__cl_activation_backward(const ft__call *call)
{
    int op = call->node->op;
    bool of_y = (ft__rows[op].reads & FT__READS_Y) != 0;
    if (call->input[0].gradient)
        ft__cl_slopes(call, op, &call->node->options, of_y ? &call->output : &call->input[0],
                      call->input[0].gradient, call->input[0].fresh);
}

static void ft__cl_softmax_run(const ft__call *call, bool logarithm, bool backward)
{
    ft_shape shape = ft__memory_shape(&call->output);
    int axis = ft__memory_axis(&call->output, ft__axis_of(call->node, shape.rank));
    ft__axis a = ft__split_axis(&shape, axis);
    float *dx = backward ? ft__started(call, 0) : NULL;
    ft__launch l = ft__start(call->context, backward ? "softmax_backward" : "softmax_forward");
    if (backward && !dx) return;
    if (backward) {
        ft__pass_value(&l, &call->output);
        ft__pass_memory(&l, call->output.gradient, ft__count(&call->output), FT__READ);
        ft__pass_memory(&l, dx, ft__count(&call->output), FT__READ | FT__WRITE);
    } else {
        ft__pass_value(&l, &call->input[0]);
        ft__pass_memory(&l, call->output.value, ft__count(&call->output), FT__WRITE);
    }
    ft__pass_int(&l, a.outer * a.inner);
    ft__pass_int(&l, a.size);
    ft__pass_int(&l, a.inner);
    ft__pass_int(&l, logarithm);
    ft__go(&l, a.outer * a.inner);
}

static void ft__cl_softmax_forward(const ft__call *call) { ft__cl_softmax_run(call, false, false); }
static void ft__cl_softmax_backward(const ft__call *call) { ft__cl_softmax_run(call, false, true); }
static void ft__cl_log_softmax_forward(const ft__call *call)
{
    ft__cl_softmax_run(call, true, false);
}
static void ft__cl_log_softmax_backward(const ft__call *call)
{
    ft__cl_softmax_run(call, true, true);
}

static void ft__cl_dropout_run(const ft__call *call, const float *from, float *to, bool add)
{
    float p = call->node->options.dropout.probability;
    size_t count = ft__count(&call->output);
    bool identity = !call->training || call->node->frozen;
    ft__launch l = ft__start(call->context, "dropout");
    if (p == 0) p = 0.5f;
    ft__pass_memory(&l, from, count, FT__READ);
    ft__pass_memory(&l, to, count, add ? FT__READ | FT__WRITE : FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass(&l, &call->random, sizeof call->random);
    ft__pass_float(&l, identity ? -1.0f : p);
    ft__pass_float(&l, identity ? 1.0f : p < 1 ? 1.0f / (1.0f - p) : 0.0f);
    ft__pass_int(&l, add);
    ft__go(&l, count);
}

static void ft__cl_dropout_forward(const ft__call *call)
{
    ft__cl_dropout_run(call, call->input[0].value, call->output.value, false);
}

static void ft__cl_dropout_backward(const ft__call *call)
{
    if (call->input[0].gradient)
        ft__cl_dropout_run(call, call->output.gradient, call->input[0].gradient,
                           !call->input[0].fresh);
}

/* ---- Convolution and linear ---- */

typedef struct ft__gather { /* kernels.cl's struct gather, field by field */
    cl_int pictures, rows_y, rows_x, in_y, in_x, taps_y, taps_x, mul_y, mul_x, off_y, off_x;
    cl_int tap_y, tap_x, div_y, div_x, in_pixel, channels, out_pixel, n, wide;
    cl_int groups, has_bias, add, op;
    cl_float a;
} ft__gather;

/* Forward: rows are the output's pixels, which gather from the input. */
static ft__gather ft__gather_forward(const ft__conv *c)
{
    ft__gather g;
    memset(&g, 0, sizeof g);
    g.pictures = (cl_int)c->batch;
    g.rows_y = c->out_height;
    g.rows_x = c->out_width;
    g.in_y = c->height;
    g.in_x = c->width;
    g.taps_y = c->kernel[0];
    g.taps_x = c->kernel[1];
    g.mul_y = c->stride[0];
    g.mul_x = c->stride[1];
    g.off_y = -c->top;
    g.off_x = -c->left;
    g.tap_y = c->dilation[0];
    g.tap_x = c->dilation[1];
    g.div_y = g.div_x = 1;
    g.groups = (cl_int)c->groups;
    g.in_pixel = g.groups * c->channels;
    g.channels = c->channels;
    g.out_pixel = g.groups * c->outputs;
    g.n = c->outputs;
    g.wide = (g.n + 15) / 16 * 16;
    g.op = -1;
    return g;
}

/* The input's gradient: rows are the input's pixels, which gather from the output's gradient. */
static ft__gather ft__gather_input(const ft__conv *c)
{
    ft__gather g = ft__gather_forward(c);
    g.rows_y = c->height;
    g.rows_x = c->width;
    g.in_y = c->out_height;
    g.in_x = c->out_width;
    g.mul_y = g.mul_x = 1;
    g.off_y = c->top;
    g.off_x = c->left;
    g.tap_y = -c->dilation[0];
    g.tap_x = -c->dilation[1];
    g.div_y = c->stride[0];
    g.div_x = c->stride[1];
    g.in_pixel = g.groups * c->outputs;
    g.channels = c->outputs;
    g.out_pixel = g.groups * c->channels;
    g.n = c->channels;
    g.wide = (g.n + 15) / 16 * 16;
    return g;
}

static size_t ft__gather_rows(const ft__gather *g)
{
    return (size_t)g->pictures * (size_t)g->rows_y * (size_t)g->rows_x;
}

/* weight [O][C][t] as the right matrix [group][t, c][n]; backward n and c change places. */
static cl_mem ft__cl_pack(const ft__call *call, const ft__gather *g, bool backward)
{
    size_t taps = (size_t)g->taps_y * (size_t)g->taps_x, n = (size_t)g->n;
    size_t channels = (size_t)g->channels, groups = (size_t)g->groups;
    size_t count = groups * taps * channels * (size_t)g->wide;
    cl_mem packed = ft__device_scratch(call->context, FT__SCRATCH_PACKED, count * sizeof(float));
    ft__launch l = ft__start(call->context, "pack_weight");
    ft__pass_value(&l, &call->input[1]);
    ft__pass_buffer(&l, packed);
    ft__pass_int(&l, groups);
    ft__pass_int(&l, taps);
    ft__pass_int(&l, channels);
    ft__pass_int(&l, n);
    ft__pass_int(&l, (size_t)g->wide);
    ft__pass_int(&l, n * channels * taps);
    ft__pass_int(&l, backward ? taps : channels * taps);
    ft__pass_int(&l, backward ? n * taps : taps);
    ft__go(&l, count);
    return packed;
}

static int ft__own_form(const ft__device *d)
{
    return d->form == FT__FORM_CLBLAST ? d->usual_form : d->form;
}

/* Runs a gathering product in the form that suits the device. */
static void ft__cl_gather(const ft__call *call, const ft__gather *g, const float *in,
                          size_t in_count, cl_mem packed, const float *bias, float *out,
                          size_t out_count)
{
    static const char *const names[] = {"gather_plain", "gather_tiled", "gather_wide"};
    int form = ft__own_form(call->context->device);
    size_t n = (size_t)g->n, rows = ft__gather_rows(g), groups = (size_t)g->groups;
    ft__launch l = ft__start(call->context, names[form]);
    ft__pass_memory(&l, in, in_count, FT__READ);
    ft__pass_buffer(&l, packed);
    ft__pass_memory(&l, bias, bias ? n * groups : 1, FT__READ);
    ft__pass_memory(&l, out, out_count, g->add ? FT__READ | FT__WRITE : FT__WRITE);
    ft__pass(&l, g, sizeof *g);
    if (form == FT__FORM_PLAIN) ft__go_grid(&l, n, rows, groups, 16, 4);
    else if (form == FT__FORM_TILED)
        ft__go_grid(&l, ft__blocks_of(n, 64) * 16, ft__blocks_of(rows, 64) * 16, groups, 16, 16);
    else ft__go_grid(&l, ft__blocks_of(n, 16), ft__blocks_of(rows, 8), groups, 1, 1);
}

/* Slices into which the rows of a weight's gradient are parted: enough to keep a device busy, few
   enough that their sums stay small. */
static size_t ft__slices_of(size_t rows, size_t count, size_t *slice_rows)
{
    size_t slices = ft__blocks_of(rows, 256), most = ((size_t)1 << 22) / count + 1;
    if (slices > 64) slices = 64;
    if (slices > most) slices = most;
    *slice_rows = ft__blocks_of(rows, slices);
    return ft__blocks_of(rows, *slice_rows);
}

static void ft__cl_weight_sum(const ft__call *call, cl_mem partial, size_t slices, size_t taps,
                              size_t channels, size_t n)
{
    size_t count = ft__count(&call->input[1]);
    ft__launch l = ft__start(call->context, "weight_sum");
    ft__pass_buffer(&l, partial);
    ft__pass_memory(&l, ft__started(call, 1), count, FT__READ | FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, slices);
    ft__pass_int(&l, taps);
    ft__pass_int(&l, channels);
    ft__pass_int(&l, n);
    ft__go(&l, count);
}

static void ft__cl_weight_gradient(const ft__call *call, const ft__conv *c)
{
    static const char *const names[] = {"weight_plain", "weight_tiled", "weight_wide"};
    ft__gather g = ft__gather_forward(c);
    int form = ft__own_form(call->context->device);
    size_t rows = ft__gather_rows(&g), count = ft__count(&call->input[1]), slice_rows;
    size_t slices = ft__slices_of(rows, count, &slice_rows), n = (size_t)g.n, z;
    size_t taps = (size_t)g.taps_y * (size_t)g.taps_x, channels = (size_t)g.channels;
    cl_mem partial = ft__device_scratch(call->context, FT__SCRATCH_SUMS,
                                        slices * count * sizeof(float));
    ft__launch l = ft__start(call->context, names[form]);
    ft__pass_value(&l, &call->input[0]);
    ft__pass_memory(&l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__pass_buffer(&l, partial);
    ft__pass(&l, &g, sizeof g);
    ft__pass_int(&l, slice_rows);
    z = slices * (size_t)g.groups;
    if (form == FT__FORM_PLAIN) ft__go_grid(&l, n, taps * channels, z, 16, 4);
    else if (form == FT__FORM_TILED)
        ft__go_grid(&l, ft__blocks_of(n, 64) * 16, taps * ft__blocks_of(channels, 64) * 16, z, 16,
                    16);
    else ft__go_grid(&l, ft__blocks_of(n, 16), taps * ft__blocks_of(channels, 8), z, 1, 1);
    ft__cl_weight_sum(call, partial, slices, taps, channels, n);
}

/* The bias's gradient: the sums of dy's columns, [rows, n]. */
static void ft__cl_bias_gradient(const ft__call *call, size_t rows, size_t n)
{
    size_t block = 128, blocks;
    float *to = ft__started(call, 2);
    cl_mem partial;
    ft__launch l;
    if (ft__blocks_of(rows, block) > 512) block = ft__blocks_of(rows, 512);
    blocks = ft__blocks_of(rows, block);
    partial = ft__device_scratch(call->context, FT__SCRATCH_SUMS, blocks * n * sizeof(float));
    l = ft__start(call->context, "column_sums");
    ft__pass_memory(&l, call->output.gradient, rows * n, FT__READ);
    ft__pass_buffer(&l, partial);
    ft__pass_int(&l, rows);
    ft__pass_int(&l, n);
    ft__pass_int(&l, block);
    ft__go_grid(&l, n, blocks, 1, 64, 1);
    l = ft__start(call->context, "column_sums_end");
    ft__pass_buffer(&l, partial);
    ft__pass_memory(&l, to, n, FT__READ | FT__WRITE);
    ft__pass_int(&l, blocks);
    ft__pass_int(&l, n);
    ft__go(&l, n);
}

static void ft__cl_depthwise(const ft__call *call, const ft__gather *g, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    bool bias = !backward && call->input_count > 2;
    size_t count = backward ? ft__count(x) : ft__count(y);
    ft__launch l = ft__start(call->context, backward ? "depthwise_input" : "depthwise_forward");
    if (backward) ft__pass_memory(&l, y->gradient, ft__count(y), FT__READ);
    else ft__pass_value(&l, x);
    ft__pass_value(&l, &call->input[1]);
    if (!backward) ft__pass_memory(&l, bias ? call->input[2].value : NULL, (size_t)g->out_pixel,
                                   FT__READ);
    if (backward) ft__pass_gradient(&l, x);
    else ft__pass_memory(&l, y->value, count, FT__WRITE);
    ft__pass(&l, g, sizeof *g);
    ft__go(&l, count);
}

static void ft__cl_depthwise_weight(const ft__call *call, const ft__conv *c)
{
    ft__gather g = ft__gather_forward(c);
    size_t rows = ft__gather_rows(&g), count = ft__count(&call->input[1]), slice_rows;
    size_t slices = ft__slices_of(rows, count, &slice_rows), outputs = (size_t)g.out_pixel;
    size_t taps = (size_t)g.taps_y * (size_t)g.taps_x;
    cl_mem partial = ft__device_scratch(call->context, FT__SCRATCH_SUMS,
                                        slices * count * sizeof(float));
    ft__launch l = ft__start(call->context, "depthwise_weight");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_memory(&l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__pass_buffer(&l, partial);
    ft__pass(&l, &g, sizeof g);
    ft__pass_int(&l, slice_rows);
    ft__go_grid(&l, outputs, taps, slices, 64, 1);
    ft__cl_weight_sum(call, partial, slices, taps, 1, outputs);
}

/* ---- By CLBlast: where each row reads one pixel, the product is one of plain matrices ---- */

static bool ft__conv_is_product(const ft__conv *c)
{
    return c->groups == 1 && c->kernel[0] == 1 && c->kernel[1] == 1 && c->stride[0] == 1
        && c->stride[1] == 1 && c->out_height == c->height && c->out_width == c->width;
}

/* out [m, n] = a [m, k] times b [k, n], or added to it; transposed ones lie as [k, m], [n, k]. */
static void ft__cl_gemm(ft__context *c, cl_mem a, bool a_transposed, cl_mem b, bool b_transposed,
                        cl_mem out, size_t m, size_t n, size_t k, bool add)
{
    int code;
    if (!ft__ok(c)) return;
    code = c->device->gemm(FT__CLBLAST_ROWS, a_transposed ? FT__CLBLAST_TRANSPOSED
                           : FT__CLBLAST_PLAIN, b_transposed ? FT__CLBLAST_TRANSPOSED
                           : FT__CLBLAST_PLAIN, m, n, k, 1, a, 0, a_transposed ? m : k, b, 0,
                           b_transposed ? k : n, add ? 1.0f : 0.0f, out, 0, n,
                           &c->device->queue, NULL);
    if (code != 0) ft__fail(c, FT_DEVICE, "%s: CLBlast's Sgemm failed (%d)", c->device->name, code);
}

static cl_mem ft__cl_numbers(const ft__call *call, const float *host, size_t count, int access)
{
    return ft__on_device(call->context, host, count * sizeof(float), access);
}

static void ft__clblast_forward(const ft__call *call, const ft__conv *c)
{
    size_t n = (size_t)c->outputs, k = (size_t)c->channels, count = ft__count(&call->output);
    bool bias = call->input_count > 2;
    cl_mem x = ft__cl_numbers(call, call->input[0].value, ft__count(&call->input[0]), FT__READ);
    cl_mem w = ft__cl_numbers(call, call->input[1].value, n * k, FT__READ);
    cl_mem y = ft__cl_numbers(call, call->output.value, count, FT__WRITE);
    ft__launch l;
    ft__cl_gemm(call->context, x, false, w, true, y, count / n, n, k, false);
    if (!bias && !call->fused) return;
    l = ft__start(call->context, "bias_activation");
    ft__pass_memory(&l, bias ? call->input[2].value : NULL, n, FT__READ);
    ft__pass_buffer(&l, y);
    ft__pass_int(&l, count);
    ft__pass_int(&l, n);
    ft__pass_int(&l, bias);
    ft__pass_activation(&l, call->fused, call->fused_options);
    ft__go(&l, count);
}

static void ft__clblast_backward(const ft__call *call, const ft__conv *c)
{
    const ft__tensor *x = &call->input[0];
    size_t n = (size_t)c->outputs, k = (size_t)c->channels, count = ft__count(&call->output);
    cl_mem dy = ft__cl_numbers(call, call->output.gradient, count, FT__READ), left, out;
    if (call->input[1].gradient) {
        left = ft__cl_numbers(call, x->value, ft__count(x), FT__READ);
        out = ft__cl_numbers(call, ft__started(call, 1), n * k, FT__READ | FT__WRITE);
        ft__cl_gemm(call->context, dy, true, left, false, out, n, k, count / n, true);
    }
    if (call->input_count > 2 && call->input[2].gradient)
        ft__cl_bias_gradient(call, count / n, n);
    if (!x->gradient) return;
    left = ft__cl_numbers(call, call->input[1].value, n * k, FT__READ);
    out = ft__cl_numbers(call, x->gradient, ft__count(x),
                         x->fresh ? FT__WRITE : FT__READ | FT__WRITE);
    ft__cl_gemm(call->context, dy, false, left, false, out, count / n, k, n, !x->fresh);
}

static void ft__cl_conv_forward(const ft__call *call, const ft__conv *c)
{
    ft__gather g = ft__gather_forward(c);
    const float *bias = call->input_count > 2 ? call->input[2].value : NULL;
    if (call->context->device->form == FT__FORM_CLBLAST && ft__conv_is_product(c)) {
        ft__clblast_forward(call, c);
        return;
    }
    g.has_bias = bias != NULL;
    g.op = ft__kernel_activation(call->fused);
    if (call->fused) g.a = ft__kernel_option(call->fused, &call->fused_options->activation);
    if (ft__conv_is_depthwise(c)) ft__cl_depthwise(call, &g, false);
    else ft__cl_gather(call, &g, call->input[0].value, ft__count(&call->input[0]),
                       ft__cl_pack(call, &g, false), bias, call->output.value,
                       ft__count(&call->output));
}

static void ft__cl_conv_backward(const ft__call *call, const ft__conv *c)
{
    ft__gather g = ft__gather_input(c);
    size_t n = c->groups * (size_t)c->outputs;
    if (call->context->device->form == FT__FORM_CLBLAST && ft__conv_is_product(c)) {
        ft__clblast_backward(call, c);
        return;
    }
    g.add = !call->input[0].fresh;
    if (call->input[1].gradient && ft__conv_is_depthwise(c)) ft__cl_depthwise_weight(call, c);
    else if (call->input[1].gradient) ft__cl_weight_gradient(call, c);
    if (call->input_count > 2 && call->input[2].gradient)
        ft__cl_bias_gradient(call, ft__count(&call->output) / n, n);
    if (!call->input[0].gradient) return;
    if (ft__conv_is_depthwise(c)) ft__cl_depthwise(call, &g, true);
    else ft__cl_gather(call, &g, call->output.gradient, ft__count(&call->output),
                       ft__cl_pack(call, &g, true), NULL, call->input[0].gradient,
                       ft__count(&call->input[0]));
}

static void ft__cl_conv2d_forward(const ft__call *call)
{
    ft__conv c = ft__conv_of_call(call);
    ft__cl_conv_forward(call, &c);
}

static void ft__cl_conv2d_backward(const ft__call *call)
{
    ft__conv c = ft__conv_of_call(call);
    ft__cl_conv_backward(call, &c);
}

static void ft__cl_linear_forward(const ft__call *call)
{
    ft__conv c = ft__linear_size(call);
    ft__cl_conv_forward(call, &c);
}

static void ft__cl_linear_backward(const ft__call *call)
{
    ft__conv c = ft__linear_size(call);
    ft__cl_conv_backward(call, &c);
}

/* ---- Batch norm ---- */

static size_t ft__norm_room(const ft__call *call)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    return 2 * s.blocks * s.channels * sizeof(float);
}

static void ft__cl_norm_blocks(const ft__call *call, cl_mem blocks)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    ft__launch l = ft__start(call->context, "norm_block");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_buffer(&l, blocks);
    ft__pass_int(&l, s.rows);
    ft__pass_int(&l, s.channels);
    ft__pass_int(&l, s.block);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
}

static void ft__cl_norm_statistics(const ft__call *call, cl_mem blocks)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    const ft_batch_norm_options *o = &call->node->options.batch_norm;
    int access = call->training ? FT__READ | FT__WRITE : FT__READ;
    ft__launch l = ft__start(call->context, "norm_statistics");
    ft__pass_buffer(&l, blocks);
    ft__pass_memory(&l, call->saved, 2 * s.channels, FT__WRITE);
    ft__pass_memory(&l, call->input[3].value, s.channels, access);
    ft__pass_memory(&l, call->input[4].value, s.channels, access);
    ft__pass_int(&l, s.rows);
    ft__pass_int(&l, s.channels);
    ft__pass_int(&l, s.block);
    ft__pass_int(&l, call->training);
    ft__pass_float(&l, o->momentum != 0 ? o->momentum : 0.1f);
    ft__pass_float(&l, o->eps != 0 ? o->eps : 1e-5f);
    ft__go(&l, s.channels);
}

/* The arguments that passes over the numbers share. */
static void ft__pass_norm(ft__launch *l, const ft__call *call, bool backward)
{
    size_t channels = (size_t)call->input[0].shape.size[1];
    ft__pass_value(l, &call->input[0]);
    if (backward)
        ft__pass_memory(l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__pass_memory(l, call->saved, 2 * channels, FT__READ);
    ft__pass_value(l, &call->input[1]);
    ft__pass_value(l, &call->input[2]);
}

static void ft__cl_batch_norm_forward(const ft__call *call)
{
    size_t count = ft__count(&call->output);
    cl_mem blocks = ft__device_scratch(call->context, FT__SCRATCH_SUMS, ft__norm_room(call));
    ft__launch l;
    if (call->training) ft__cl_norm_blocks(call, blocks);
    ft__cl_norm_statistics(call, blocks);
    l = ft__start(call->context, "norm_apply");
    ft__pass_norm(&l, call, false);
    ft__pass_memory(&l, call->output.value, count, FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, (size_t)call->input[0].shape.size[1]);
    ft__pass_activation(&l, call->fused, call->fused_options);
    ft__go(&l, count);
}

static void ft__cl_norm_totals(const ft__call *call, cl_mem blocks, cl_mem terms)
{
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    float *dweight = ft__started(call, 1), *dbias = ft__started(call, 2);
    ft__launch l = ft__start(call->context, "norm_totals");
    ft__pass_buffer(&l, blocks);
    ft__pass_memory(&l, call->saved, 2 * s.channels, FT__READ);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_memory(&l, dweight, s.channels, FT__READ | FT__WRITE);
    ft__pass_memory(&l, dbias, s.channels, FT__READ | FT__WRITE);
    ft__pass_buffer(&l, terms);
    ft__pass_int(&l, s.rows);
    ft__pass_int(&l, s.channels);
    ft__pass_int(&l, s.blocks);
    ft__pass_int(&l, call->training);
    ft__pass_int(&l, (dweight ? 1u : 0u) + (dbias ? 2u : 0u));
    ft__go(&l, s.channels);
}

static void ft__cl_batch_norm_backward(const ft__call *call)
{
    ft__context *c = call->context;
    ft__norm_size s = ft__norm_size_of(&call->input[0]);
    size_t count = ft__count(&call->output), op = (size_t)ft__kernel_activation(call->fused);
    cl_mem blocks = ft__device_scratch(c, FT__SCRATCH_SUMS, ft__norm_room(call));
    cl_mem terms = ft__device_scratch(c, FT__SCRATCH_TERMS, 2 * s.channels * sizeof(float));
    ft__launch l = ft__start(c, "norm_sums");
    ft__pass_norm(&l, call, true);
    ft__pass_buffer(&l, blocks);
    ft__pass_int(&l, s.rows);
    ft__pass_int(&l, s.channels);
    ft__pass_int(&l, s.block);
    ft__pass_int(&l, op);
    ft__go_grid(&l, s.channels, s.blocks, 1, 64, 1);
    ft__cl_norm_totals(call, blocks, terms);
    if (!call->input[0].gradient) return;
    l = ft__start(c, "norm_back");
    ft__pass_norm(&l, call, true);
    ft__pass_buffer(&l, terms);
    ft__pass_gradient(&l, &call->input[0]);
    ft__pass_int(&l, count);
    ft__pass_int(&l, s.channels);
    ft__pass_int(&l, op);
    ft__pass_int(&l, call->input[0].fresh);
    ft__go(&l, count);
}
#endif /* FINETUNE_OPENCL */

/* =============================================================================================
   [SECTION] 9.5 OpenCL: more operators
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
/* ---- Pooling ---- */

typedef struct ft__pool_sizes { /* kernels.cl's struct pool, field by field */
    cl_int pictures, channels, in_y, in_x, out_y, out_x, kernel_y, kernel_x, stride_y, stride_x;
    cl_int top, left, bottom, right, inside, fresh;
} ft__pool_sizes;

static ft__pool_sizes ft__pool_sizes_of(const ft__call *call)
{
    const ft_pool2d_options *o = &call->node->options.pool2d;
    const int *x = call->input[0].shape.size;
    ft__pool_sizes p;
    memset(&p, 0, sizeof p);
    p.pictures = x[0];
    p.channels = x[1];
    p.in_y = p.kernel_y = p.stride_y = x[2]; /* a global pool is one window */
    p.in_x = p.kernel_x = p.stride_x = x[3];
    p.out_y = p.out_x = 1;
    p.fresh = call->input[0].fresh;
    if (call->node->op == FT__OP_max_pool2d || call->node->op == FT__OP_avg_pool2d) {
        ft__window h = ft__pool_window(o, &call->input[0].shape, 0);
        ft__window w = ft__pool_window(o, &call->input[0].shape, 1);
        p.out_y = h.out;
        p.out_x = w.out;
        p.kernel_y = h.kernel;
        p.kernel_x = w.kernel;
        p.stride_y = h.stride;
        p.stride_x = w.stride;
        p.top = h.before;
        p.left = w.before;
        p.bottom = h.after;
        p.right = w.after;
        p.inside = o->exclude_padding || o->same;
    }
    return p;
}

static void ft__cl_pool_forward(const ft__call *call, bool largest)
{
    ft__pool_sizes p = ft__pool_sizes_of(call);
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, largest ? "max_pool_forward" : "avg_pool_forward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_memory(&l, call->output.value, count, FT__WRITE);
    if (largest) ft__pass_memory(&l, call->saved, count, FT__WRITE);
    ft__pass(&l, &p, sizeof p);
    ft__go(&l, count);
}

static void ft__cl_pool_backward(const ft__call *call, bool largest)
{
    ft__pool_sizes p = ft__pool_sizes_of(call);
    ft__launch l = ft__start(call->context, "pool_backward");
    if (!call->input[0].gradient) return;
    ft__pass_memory(&l, call->output.gradient, ft__count(&call->output), FT__READ);
    ft__pass_memory(&l, largest ? call->saved : NULL, ft__count(&call->output), FT__READ);
    ft__pass_gradient(&l, &call->input[0]);
    ft__pass(&l, &p, sizeof p);
    ft__pass_int(&l, largest);
    ft__go(&l, ft__count(&call->input[0]));
}

static void ft__cl_max_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, true); }
static void ft__cl_max_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, true); }
static void ft__cl_avg_pool_forward(const ft__call *call) { ft__cl_pool_forward(call, false); }
static void ft__cl_avg_pool_backward(const ft__call *call) { ft__cl_pool_backward(call, false); }

/* ---- Shapes ---- */

static void ft__cl_reshape_run(const ft__call *call, bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    const ft__tensor *from = backward ? y : x, *to = backward ? x : y;
    size_t count = ft__count(y), i;
    bool add = backward && !x->fresh;
    ft__launch l = ft__start(call->context, "reshape");
    if (backward && !x->gradient) return;
    ft__pass_memory(&l, backward ? y->gradient : x->value, count, FT__READ);
    ft__pass_memory(&l, backward ? x->gradient : y->value, count,
                    add ? FT__READ | FT__WRITE : FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, count / (size_t)x->shape.size[0]);
    for (i = 0; i < 2; ++i) {
        const ft__tensor *t = i ? to : from;
        ft__pass_int(&l, t->channels_last ? (size_t)t->shape.size[2] * (size_t)t->shape.size[3]
                                          : count);
        ft__pass_int(&l, t->channels_last ? (size_t)t->shape.size[1] : 1);
    }
    ft__pass_int(&l, add);
    ft__go(&l, count);
}

static void ft__cl_reshape_forward(const ft__call *call) { ft__cl_reshape_run(call, false); }
static void ft__cl_reshape_backward(const ft__call *call) { ft__cl_reshape_run(call, true); }

static void ft__cl_concat_run(const ft__call *call, bool backward)
{
    int axis = ft__memory_axis(&call->output, call->node->options.concat.axis), i;
    ft_shape shape = ft__memory_shape(&call->output);
    ft__axis whole = ft__split_axis(&shape, axis);
    size_t offset = 0, total = ft__count(&call->output);
    for (i = 0; i < call->input_count; ++i) {
        const ft__tensor *x = &call->input[i];
        ft_shape part = ft__memory_shape(x);
        size_t block = (size_t)part.size[axis] * whole.inner, step = whole.size * whole.inner;
        bool add = backward && !x->fresh;
        ft__launch l;
        if (!backward || x->gradient) {
            l = ft__start(call->context, "copy_blocks");
            ft__pass_memory(&l, backward ? call->output.gradient : x->value,
                            backward ? total : ft__count(x), FT__READ);
            ft__pass_memory(&l, backward ? x->gradient : call->output.value,
                            backward ? ft__count(x) : total,
                            add ? FT__READ | FT__WRITE : FT__WRITE);
            ft__pass_int(&l, ft__count(x));
            ft__pass_int(&l, block);
            ft__pass_int(&l, backward ? step : block);
            ft__pass_int(&l, backward ? offset : 0);
            ft__pass_int(&l, backward ? block : step);
            ft__pass_int(&l, backward ? 0 : offset);
            ft__pass_int(&l, add);
            ft__go(&l, ft__count(x));
        }
        offset += block;
    }
}

static void ft__cl_concat_forward(const ft__call *call) { ft__cl_concat_run(call, false); }
static void ft__cl_concat_backward(const ft__call *call) { ft__cl_concat_run(call, true); }

typedef struct ft__kernel_embedding { cl_int small[6], large[6], start[6], step[6]; }
    ft__kernel_embedding;

static void ft__cl_embed(const ft__call *call, const ft__embedding *e, bool to_large,
                         const float *from, size_t from_count, float *to, size_t to_count,
                         bool add, bool partly)
{
    size_t count = ft__shape_count(&e->small);
    ft__kernel_embedding k;
    ft__launch l;
    int d;
    for (d = 0; d < 6; ++d) {
        k.small[d] = d < e->small.rank ? e->small.size[d] : 1;
        k.large[d] = d < e->small.rank ? e->large.size[d] : 1;
        k.start[d] = d < e->small.rank ? e->start[d] : 0;
        k.step[d] = d < e->small.rank ? e->step[d] : 1;
    }
    if (partly && !add) ft__device_fill(call->context, to, to_count, 0);
    l = ft__start(call->context, "embed");
    ft__pass_memory(&l, from, from_count, FT__READ);
    ft__pass_memory(&l, to, to_count, add || partly ? FT__READ | FT__WRITE : FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass(&l, &k, sizeof k);
    ft__pass_int(&l, to_large);
    ft__pass_int(&l, add);
    ft__go(&l, count);
}

/* Both pad and slice, forward and backward: x and y are the smaller and the larger tensor. */
static void ft__cl_embed_run(const ft__call *call, const ft__embedding *e, bool x_is_small,
                             bool backward)
{
    const ft__tensor *x = &call->input[0], *y = &call->output;
    bool to_large = x_is_small != backward;
    if (backward && !x->gradient) return;
    if (backward) ft__cl_embed(call, e, to_large, y->gradient, ft__count(y), x->gradient,
                               ft__count(x), !x->fresh, to_large);
    else ft__cl_embed(call, e, to_large, x->value, ft__count(x), y->value, ft__count(y), false,
                      to_large);
}

static void ft__cl_pad_forward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    ft__cl_embed_run(call, &e, true, false);
}

static void ft__cl_pad_backward(const ft__call *call)
{
    ft__embedding e = ft__pad_embedding(call);
    ft__cl_embed_run(call, &e, true, true);
}

static void ft__cl_slice_forward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    ft__cl_embed_run(call, &e, false, false);
}

static void ft__cl_slice_backward(const ft__call *call)
{
    ft__embedding e = ft__slice_embedding(call);
    ft__cl_embed_run(call, &e, false, true);
}

/* ---- add and mul ---- */

typedef struct ft__grid { cl_int size[6], step[6]; } ft__grid;

static ft__grid ft__grid_of(const ft__call *call)
{
    ft__strides s = ft__broadcast_strides(&call->input[0], &call->input[1]);
    ft__grid grid;
    int d;
    for (d = 0; d < 6; ++d) {
        grid.size[d] = d < s.rank ? (cl_int)s.size[d] : 1;
        grid.step[d] = d < s.rank ? (cl_int)s.step[d] : 0;
    }
    return grid;
}

static void ft__cl_broadcast_forward(const ft__call *call)
{
    ft__grid grid = ft__grid_of(call);
    size_t count = ft__count(&call->output);
    ft__launch l = ft__start(call->context, "broadcast_forward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_memory(&l, call->output.value, count, FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass(&l, &grid, sizeof grid);
    ft__pass_int(&l, call->node->op == FT__OP_mul);
    ft__pass_activation(&l, call->fused, call->fused_options);
    ft__go(&l, count);
}

static void ft__cl_broadcast_left(const ft__call *call)
{
    ft__grid grid = ft__grid_of(call);
    bool product = call->node->op == FT__OP_mul;
    float *da = call->input[0].gradient;
    size_t count = ft__count(&call->output);
    ft__launch l;
    if (!da || da == call->output.gradient) return; /* the gradient is there already */
    l = ft__start(call->context, "broadcast_left");
    ft__pass_memory(&l, product ? call->input[1].value : NULL, ft__count(&call->input[1]),
                    FT__READ);
    ft__pass_memory(&l, call->output.gradient, count, FT__READ);
    ft__pass_gradient(&l, &call->input[0]);
    ft__pass_int(&l, count);
    ft__pass(&l, &grid, sizeof grid);
    ft__pass_int(&l, product);
    ft__pass_int(&l, call->input[0].fresh);
    ft__go(&l, count);
}

static void ft__cl_broadcast_backward(const ft__call *call)
{
    ft__grid grid = ft__grid_of(call);
    bool product = call->node->op == FT__OP_mul;
    size_t count = ft__count(&call->output), count_b = ft__count(&call->input[1]);
    ft__launch l;
    ft__cl_broadcast_left(call);
    if (!call->input[1].gradient) return;
    l = ft__start(call->context, "broadcast_right");
    ft__pass_memory(&l, product ? call->input[0].value : NULL, count, FT__READ);
    ft__pass_memory(&l, call->output.gradient, count, FT__READ);
    ft__pass_gradient(&l, &call->input[1]);
    ft__pass_int(&l, count_b);
    ft__pass(&l, &grid, sizeof grid);
    ft__pass_int(&l, count / count_b);
    ft__pass_int(&l, product);
    ft__pass_int(&l, call->input[1].fresh);
    ft__go(&l, count_b);
}

/* ---- Losses ---- */

/* loss = the sum of `each` over `divisor`, or, where it is 0, over how many count. */
static void ft__cl_loss_mean(const ft__call *call, cl_mem each, size_t count, size_t divisor)
{
    ft__launch l = ft__start(call->context, "loss_mean");
    ft__pass_buffer(&l, each);
    ft__pass_memory(&l, call->output.value, 1, FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, divisor == 0);
    ft__pass_float(&l, (float)divisor);
    ft__go_grid(&l, 1, 1, 1, 1, 1);
}

static void ft__cl_entropy_forward(const ft__call *call)
{
    bool hard = call->node->op == FT__OP_cross_entropy;
    size_t classes = (size_t)call->input[0].shape.size[call->input[0].shape.rank - 1];
    size_t count = ft__count(&call->input[0]) / classes;
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, 2 * count * sizeof(float));
    ft__launch l = ft__start(call->context, hard ? "cross_entropy_forward"
                                                 : "soft_cross_entropy_forward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_memory(&l, call->saved, ft__count(&call->input[0]), FT__WRITE);
    ft__pass_buffer(&l, each);
    ft__pass_int(&l, count);
    ft__pass_int(&l, classes);
    if (hard) ft__pass_float(&l, call->node->options.loss.label_smoothing);
    ft__go(&l, count);
    ft__cl_loss_mean(call, each, count, hard ? 0 : count);
}

static void ft__cl_entropy_backward(const ft__call *call)
{
    bool hard = call->node->op == FT__OP_cross_entropy;
    size_t classes = (size_t)call->input[0].shape.size[call->input[0].shape.rank - 1];
    size_t count = ft__count(&call->input[0]);
    float *dx = ft__started(call, 0);
    ft__launch l = ft__start(call->context, hard ? "cross_entropy_backward"
                                                 : "soft_cross_entropy_backward");
    if (!dx) return;
    ft__pass_memory(&l, call->saved, count, FT__READ);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_memory(&l, call->output.gradient, 1, FT__READ);
    ft__pass_memory(&l, dx, count, FT__READ | FT__WRITE);
    ft__pass_int(&l, count / classes);
    ft__pass_int(&l, classes);
    if (hard) ft__pass_float(&l, call->node->options.loss.label_smoothing);
    ft__go(&l, count);
}

static void ft__cl_pair_loss_forward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]), block = 256, blocks = ft__blocks_of(count, block);
    cl_mem each = ft__device_scratch(call->context, FT__SCRATCH_SUMS, blocks * sizeof(float));
    ft__launch l = ft__start(call->context, "pair_loss_forward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_buffer(&l, each);
    ft__pass_int(&l, count);
    ft__pass_int(&l, block);
    ft__pass_int(&l, call->node->op == FT__OP_binary_cross_entropy);
    ft__go(&l, blocks);
    ft__cl_loss_mean(call, each, blocks, count);
}

static void ft__cl_pair_loss_backward(const ft__call *call)
{
    size_t count = ft__count(&call->input[0]);
    bool binary = call->node->op == FT__OP_binary_cross_entropy;
    float *dx = ft__started(call, 0), *dt = binary ? NULL : ft__started(call, 1);
    ft__launch l = ft__start(call->context, "pair_loss_backward");
    ft__pass_value(&l, &call->input[0]);
    ft__pass_value(&l, &call->input[1]);
    ft__pass_memory(&l, call->output.gradient, 1, FT__READ);
    ft__pass_memory(&l, dx, count, FT__READ | FT__WRITE);
    ft__pass_memory(&l, dt, count, FT__READ | FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, binary);
    ft__pass_int(&l, (dx ? 1u : 0u) + (dt ? 2u : 0u));
    ft__go(&l, count);
}

/* ---- The gradients' norm ---- */

/* Sums that the squares of so many numbers are added up to; each takes every parts-th number. */
static size_t ft__squares_parts(size_t count)
{
    size_t parts = ft__blocks_of(count, 64);
    return parts < 1024 ? parts : 1024;
}

static void ft__device_squares(ft__context *c, const float *x, size_t count, float *sums,
                               size_t sum_count, size_t at, size_t parts)
{
    ft__launch l = ft__start(c, "squares");
    ft__pass_memory(&l, x, count, FT__READ);
    ft__pass_memory(&l, sums, sum_count, at > 0 ? FT__READ | FT__WRITE : FT__WRITE);
    ft__pass_int(&l, count);
    ft__pass_int(&l, parts);
    ft__pass_int(&l, at);
    ft__go(&l, parts);
}

/* ---- The rows of the table that have kernels ---- */
#define ft__cl_none_forward NULL
#define ft__cl_none_backward NULL
typedef struct ft__device_row { ft__operator forward, backward; } ft__device_row;

#define FT__DEVICE_ROW(name, low, high, reads, shape, forward, backward, costs, fields, device)  \
    {ft__cl_##device##_forward, ft__cl_##device##_backward},
static const ft__device_row ft__device_rows[] = {FT__OPERATORS(FT__DEVICE_ROW)};

static const size_t ft__most_on_device = (size_t)1 << 30; /* kernels count with int */

static bool ft__has_kernels(const ft__call *call)
{
    int op = call->node->op, i;
    if (!ft__device_rows[op].forward) return false;
    if (op == FT__OP_linear && call->input[0].shape.rank == 4) return false;
    if (op == FT__OP_dropout && call->node->options.dropout.locked) return false;
    for (i = 0; i < call->input_count; ++i)
        if (ft__count(&call->input[i]) > ft__most_on_device) return false;
    return ft__count(&call->output) <= ft__most_on_device;
}
#endif /* FINETUNE_OPENCL */

/* =============================================================================================
   [SECTION] 9.6 OpenCL: where an operator runs
   On the device where that has kernels for it, else on the processor: values then come down, and
   what was made goes up when the device wants it.
   ============================================================================================= */

#ifdef FINETUNE_OPENCL
/* The processor may read all that an operator sees. */
static void ft__call_to_host(const ft__call *call, bool backward)
{
    ft__context *c = call->context;
    int i;
    for (i = 0; i < call->input_count; ++i) {
        const ft__tensor *t = &call->input[i];
        ft__to_host(c, t->value, ft__count(t) * sizeof(float));
        if (backward && t->gradient && !t->fresh)
            ft__to_host(c, t->gradient, ft__count(t) * sizeof(float));
    }
    if (!backward) return;
    ft__to_host(c, call->output.value, ft__count(&call->output) * sizeof(float));
    ft__to_host(c, call->output.gradient, ft__count(&call->output) * sizeof(float));
}

/* The processor wrote the results: the output, or gradients; inputs from the fourth on may be
   statistics or states that forward moves. */
static void ft__call_wrote(const ft__call *call, bool backward)
{
    int i;
    if (!backward) ft__host_wrote(call->context, call->output.value);
    for (i = 0; i < call->input_count; ++i) {
        if (backward && call->input[i].gradient)
            ft__host_wrote(call->context, call->input[i].gradient);
        if (!backward && i >= 3) ft__host_wrote(call->context, call->input[i].value);
    }
}

/* ---- The check: before an operator's kernels are used for a shape, they are compared with the
   processor on two samples of random numbers, and, with ft_desc.clock, timed ---- */

typedef struct ft__trial {  /* an operator with memory of its own */
    ft__call call;
    ft__tensor input[8];
    void *blocks[24];
    int block_count;
} ft__trial;

/* What the verdict depends on: the operator, its options, and all shapes but the batch. */
static uint64_t ft__call_key(const ft__call *call)
{
    uint64_t key = ft__hash_bytes(0, &call->node->options, sizeof call->node->options);
    int header[4], i;
    header[0] = call->node->op;
    header[1] = call->input_count;
    header[2] = call->fused;
    header[3] = call->input[0].channels_last;
    key = ft__hash_bytes(key, header, sizeof header);
    for (i = 0; i < call->input_count; ++i) {
        ft_shape shape = call->input[i].shape;
        if (shape.size[0] == call->input[0].shape.size[0]) shape.size[0] = 0;
        key = ft__hash_bytes(key, &shape, sizeof shape);
    }
    return key;
}

static bool ft__is_layer(int op)
{
    return op == FT__OP_conv2d || op == FT__OP_linear || op == FT__OP_batch_norm;
}

static float *ft__trial_memory(ft__trial *t, size_t count)
{
    void *block = ft__allocate(t->call.context, count + 1, sizeof(float));
    if (block) t->blocks[t->block_count++] = block;
    return (float *)block;
}

static void ft__trial_fill(float *to, size_t count, uint64_t use, float low)
{
    size_t i;
    uint64_t key = ft__key(7, use, 0, 0);
    for (i = 0; to && i < count; ++i) to[i] = low + (1 - low) * ft__uniform(key, i);
}

/* Makes a call of the same operator on at most two samples. */
static bool ft__trial_make(ft__trial *t, const ft__call *call)
{
    ft__context *c = call->context;
    int batch = call->input[0].shape.size[0], few = batch < 2 ? batch : 2, i, op = call->node->op;
    ft__costs costs = {0, 0, 0, 0};
    size_t k, count;
    memset(t, 0, sizeof *t);
    if (call->input_count > 8) return false;
    t->call = *call;
    t->call.input = t->input;
    t->call.training = true; /* so that there is room for backward */
    for (i = 0; i < call->input_count; ++i) {
        ft__tensor *x = &t->input[i];
        *x = call->input[i];
        if (x->shape.size[0] == batch && (i == 0 || !ft__is_layer(op))) x->shape.size[0] = few;
        count = ft__count(x);
        x->fresh = false;
        x->value = ft__trial_memory(t, count);
        x->gradient = x->type == FT_F32 && !(i >= 3 && op == FT__OP_batch_norm)
            ? ft__trial_memory(t, count) : NULL;
        ft__trial_fill(x->value, count, (uint64_t)i, i == 4 ? 0.5f : -1);
        for (k = 0; x->type == FT_I32 && x->value && k < count; ++k) ft__integers(x)[k] = 0;
    }
    t->call.output.shape = call->output.shape;
    if (t->call.output.shape.size[0] == batch && ft__count(&call->output) > 1)
        t->call.output.shape.size[0] = few;
    count = ft__count(&t->call.output);
    t->call.output.value = ft__trial_memory(t, count);
    t->call.output.gradient = ft__trial_memory(t, count);
    ft__trial_fill(t->call.output.gradient, count, 9, -1);
    if (ft__rows[op].costs) ft__rows[op].costs(&t->call, &costs);
    t->call.saved = ft__trial_memory(t, costs.saved / sizeof(float));
    t->call.workspace = ft__trial_memory(t, costs.workspace / sizeof(float));
    t->call.prepared = NULL;
    t->call.training = call->training || op == FT__OP_dropout;
    return ft__ok(c);
}

static void ft__trial_free(ft__trial *t)
{
    while (t->block_count > 0) ft__release(t->call.context, t->blocks[--t->block_count]);
}

/* Forward and backward, in one form; the seconds that they took. */
static double ft__trial_run(const ft__trial *t, int form)
{
    const ft__call *call = &t->call;
    const ft__device_row *row = &ft__device_rows[call->node->op];
    ft__device *d = call->context->device;
    const ft_desc *desc = &call->context->desc;
    double start;
    d->form = form;
    if (form != FT__FORM_PROCESSOR) d->cl.clFinish(d->queue);
    start = desc->clock ? desc->clock(desc->clock_user) : 0;
    if (form == FT__FORM_PROCESSOR) {
        ft__rows[call->node->op].forward(call);
        if (ft__rows[call->node->op].backward) ft__rows[call->node->op].backward(call);
    } else {
        row->forward(call);
        if (row->backward) row->backward(call);
        d->cl.clFinish(d->queue);
    }
    return desc->clock ? desc->clock(desc->clock_user) - start : 0;
}

/* The largest difference of two arrays, relative to the largest number; NaN counts as 1e9. */
static float ft__apart(const float *a, const float *b, size_t count)
{
    float largest = 0, apart = 0;
    size_t i;
    for (i = 0; a && i < count; ++i) {
        float d = (float)fabs((double)a[i] - (double)b[i]);
        if (!(d <= 3e38f)) return 1e9f;
        if (d > apart) apart = d;
        if (fabs((double)a[i]) > (double)largest) largest = (float)fabs((double)a[i]);
    }
    return apart > 1e-6f ? apart / (largest > 1e-6f ? largest : 1e-6f) : 0;
}

static float ft__trial_error(const ft__trial *host, const ft__trial *device)
{
    ft__context *c = host->call.context;
    const ft__tensor *y = &device->call.output;
    float error, worst;
    int i;
    ft__to_host(c, y->value, ft__count(y) * sizeof(float));
    worst = ft__apart(host->call.output.value, y->value, ft__count(y));
    for (i = 0; i < host->call.input_count; ++i) {
        const ft__tensor *x = &device->input[i];
        bool state = !x->gradient && x->type == FT_F32;
        const float *got = state ? x->value : x->gradient;
        if (!got) continue;
        ft__to_host(c, got, ft__count(x) * sizeof(float));
        error = ft__apart(state ? host->input[i].value : host->input[i].gradient, got,
                          ft__count(x));
        if (error > worst) worst = error;
    }
    return ft__ok(c) ? worst : 1e9f;
}

/* CLBlast's product is tried too where the operator is a plain one. */
static bool ft__form_fits(const ft__call *call, int form)
{
    const ft__device *d = call->context->device;
    ft__conv c;
    bool product = call->node->op == FT__OP_conv2d || call->node->op == FT__OP_linear;
    if (!product) return form == d->usual_form;
    if (form == d->usual_form || form == FT__FORM_PLAIN) return true;
    if (form != FT__FORM_CLBLAST || !d->gemm) return false;
    c = call->node->op == FT__OP_linear ? ft__linear_size(call) : ft__conv_of_call(call);
    return ft__conv_is_product(&c);
}

/* Errors of a trial are no errors of the run: the form is left out. */
static float ft__try_form(const ft__call *call, const ft__trial *host, int form, double *seconds)
{
    ft__context *c = call->context;
    ft__trial trial;
    float error = 1e9f;
    int again;
    if (ft__trial_make(&trial, call)) {
        ft__trial_run(&trial, form);
        error = ft__trial_error(host, &trial);
        *seconds = 1e9;
        for (again = 0; again < 2 && c->desc.clock && ft__ok(c); ++again) {
            double took = ft__trial_run(&trial, form);
            if (took < *seconds) *seconds = took;
        }
    }
    if (!ft__ok(c)) {
        ft__log(c, "%s: %s", call->node->name, c->text);
        c->status = FT_OK;
        c->text[0] = 0;
        c->device->lost = false; /* nothing but the trial's memory was at stake */
        error = 1e9f;
    }
    ft__trial_free(&trial);
    return error;
}

#define FT__WRONG 1e-3f /* relative to the largest value: rounding is a hundredth of it */

/* Tries every form that fits and keeps the first that is right, or, with a clock, the fastest. A
   device that is a processor was asked for by name: there the kernels may be slower. */
static void ft__judge(const ft__call *call, ft__verdict *v)
{
    static const int forms[] = {FT__FORM_TILED, FT__FORM_WIDE, FT__FORM_CLBLAST, FT__FORM_PLAIN};
    ft__context *c = call->context;
    ft__device *d = c->device;
    double seconds = 0, best = 1e9;
    float error, worst = 0;
    ft__trial host;
    size_t i;
    v->form = FT__FORM_PROCESSOR;
    if (!ft__trial_make(&host, call)) return;
    v->host_seconds = ft__trial_run(&host, FT__FORM_PROCESSOR);
    for (i = 0; i < sizeof forms / sizeof forms[0]; ++i) {
        if (!ft__form_fits(call, forms[i])) continue;
        if (v->form >= 0 && (!c->desc.clock || forms[i] == FT__FORM_PLAIN)) continue;
        error = ft__try_form(call, &host, forms[i], &seconds);
        if (error > worst) worst = error;
        if (!(error <= FT__WRONG))
            ft__log(c, "%s (%s): form %d of its kernels is wrong on %s, by %.3g of the largest"
                    " value", ft__rows[v->op].name, call->node->name, forms[i], d->name,
                    (double)error);
        else if (v->form < 0 || seconds < best) {
            v->form = forms[i];
            v->error = error;
            best = v->device_seconds = seconds;
        }
    }
    ft__trial_free(&host);
    if (v->form < 0) v->error = worst;
    if (v->form >= 0 && c->desc.clock && !d->place.is_processor && best > v->host_seconds) {
        ft__log(c, "%s (%s) is slower on %s: %.3g s for two samples, the processor takes %.3g",
                ft__rows[v->op].name, call->node->name, d->name, best, v->host_seconds);
        v->form = FT__FORM_PROCESSOR;
    }
}

static const ft__verdict *ft__add_verdict(ft__context *c, const ft__verdict *v)
{
    ft__device *d = c->device;
    if (d->verdict_count == d->verdict_capacity) {
        int capacity = d->verdict_capacity ? 2 * d->verdict_capacity : 64;
        ft__verdict *grown = (ft__verdict *)ft__grow(c, d->verdicts, (size_t)d->verdict_count,
                                                     (size_t)capacity, sizeof *grown);
        if (!grown) return NULL;
        d->verdicts = grown;
        d->verdict_capacity = capacity;
    }
    d->verdicts[d->verdict_count] = *v;
    return &d->verdicts[d->verdict_count++];
}

/* What is known about an operator; found out when it is met for the first time. */
static const ft__verdict *ft__verdict_of(const ft__call *call)
{
    ft__context *c = call->context;
    ft__device *d = c->device;
    uint64_t key = ft__call_key(call);
    ft__verdict v;
    char text[80];
    int i;
    for (i = 0; i < d->verdict_count; ++i)
        if (d->verdicts[i].key == key) return &d->verdicts[i];
    memset(&v, 0, sizeof v);
    v.key = key;
    v.op = call->node->op;
    snprintf(v.shape, sizeof v.shape, "%.47s", ft__shape_text(&call->input[0].shape, text));
    d->checking = true;
    ft__judge(call, &v);
    d->checking = false;
    return ft__add_verdict(c, &v);
}

static void ft__say_fall_back(ft__context *c, const ft__node *node)
{
    bool none = !ft__device_rows[node->op].forward;
    if (c->device->said[node->op]) return;
    c->device->said[node->op] = 1;
    ft__log(c, "%s (%s) runs on the processor: %s", ft__rows[node->op].name, node->name,
            none ? "there is no kernel for it" : "its kernels do not suit this device or shape");
}
#endif

/* Whether an operator runs on a device; the same for its forward and its backward. */
static bool ft__runs_on_device(const ft__call *call)
{
#ifdef FINETUNE_OPENCL
    ft__device *d = call->context->device;
    const ft__verdict *verdict;
    if (!d || !ft__ok(call->context) || !ft__has_kernels(call)) return false;
    if (d->unchecked) return true;
    verdict = ft__verdict_of(call);
    if (!verdict || verdict->form == FT__FORM_PROCESSOR) return false;
    d->form = verdict->form;
    return true;
#else
    (void)call;
    return false;
#endif
}

/* Calls an operator's forward or backward, where it runs. */
static void ft__run_operator(const ft__call *call, bool backward)
{
    const ft__row *row = &ft__rows[call->node->op];
#ifdef FINETUNE_OPENCL
    const ft__device_row *device = &ft__device_rows[call->node->op];
    if (ft__runs_on_device(call)) {
        (backward ? device->backward : device->forward)(call);
        return;
    }
    if (call->context->device) {
        ft__say_fall_back(call->context, call->node);
        ft__call_to_host(call, backward);
    }
#endif
    (backward ? row->backward : row->forward)(call);
#ifdef FINETUNE_OPENCL
    if (call->context->device) ft__call_wrote(call, backward);
#endif
}

/* The gradient of an operator's output becomes that of what its fused activation got. */
static void ft__run_activation_back(const ft__call *call)
{
#ifdef FINETUNE_OPENCL
    if (ft__runs_on_device(call)) {
        ft__cl_slopes(call, call->fused, call->fused_options, &call->output, call->output.gradient,
                      true);
        return;
    }
    if (call->context->device) ft__call_to_host(call, true);
#endif
    ft__activation_back(call);
    ft__host_wrote(call->context, call->output.gradient);
}

/* What was chosen, for a checkpoint: `,"device":NAME,"choices":[key,form,...]`. */
static void ft__device_add_choices(const ft__context *c, ft__text *text)
{
#ifdef FINETUNE_OPENCL
    const ft__device *d = c->device;
    int i;
    if (!d) return;
    ft__text_add(text, ",\"device\":");
    ft__json_add_text(text, d->name);
    ft__text_add(text, ",\"choices\":[");
    for (i = 0; i < d->verdict_count; ++i)
        ft__text_add(text, "%s%lld,%d", i ? "," : "", (long long)d->verdicts[i].key,
                     d->verdicts[i].form);
    ft__text_add(text, "]");
#else
    (void)c;
    (void)text;
#endif
}

/* A run goes on with the choices of its checkpoint, so that its bits stay the same. On another
   device they are made anew, and the log says so. */
static void ft__device_read_choices(ft__context *c, ft__json *json, const char *path)
{
    const char *name = ft__json_string(json, ft__json_member(json, 0, "device"));
#ifdef FINETUNE_OPENCL
    ft__device *d = c->device;
    int list = ft__json_member(json, 0, "choices"), i;
    int64_t key = 0, form = 0;
    if (d && name && strcmp(name, d->name) == 0) {
        d->verdict_count = 0;
        for (i = 0; ft__json_int(json, ft__json_element(json, list, i), &key)
             && ft__json_int(json, ft__json_element(json, list, i + 1), &form); i += 2) {
            ft__verdict v;
            memset(&v, 0, sizeof v);
            v.key = (uint64_t)key;
            v.form = form >= FT__FORM_PROCESSOR && form < FT__FORM_COUNT
                && (form != FT__FORM_CLBLAST || d->gemm) ? (int)form : d->usual_form;
            ft__add_verdict(c, &v);
        }
        return;
    }
    if (!d == !name) return;
#endif
    if (name || c->device)
        ft__log(c, "%s was written on %s: the run goes on, but its last bits will differ", path,
                name ? name : "the processor");
}

/* Sets numbers to one value, on the side where they will be read. */
static void ft__set_numbers(ft__context *c, float *to, size_t count, float value)
{
    size_t i;
#ifdef FINETUNE_OPENCL
    if (c->device) {
        ft__device_fill(c, to, count, value);
        return;
    }
#endif
    (void)c;
    for (i = 0; i < count; ++i) to[i] = value;
}

/* =============================================================================================
   [SECTION] 10 Graph: nodes and plan
   Nodes are added in any order that the builder likes; m->order is the order of execution. A plan
   fixes, for one purpose (evaluation or training) and a largest batch, which operators run, in
   which form, and where each value lies: nothing is allocated in a step.

   Inference form: where nothing trainable comes before, batch norm is folded into the convolution
   or linear layer before it, the activation behind is applied on the way, and no value is kept
   longer than its last reader. Evaluation runs everything so; training runs the frozen prefix so.
   ============================================================================================= */
typedef struct ft__step {   /* one call of an operator */
    int id;                 /* the node whose operator is called */
    int output;             /* the node whose value it makes: id, or the end of what was fused */
    int norm;               /* batch norm folded into it; 0: none */
    int activation;         /* activation applied to the result; 0: none */
    float *weight, *bias;   /* the folded ones */
    float *prepared;        /* weights as the operator wants them; NULL: it prepares none */
    uint64_t prepared_for;  /* the version of the weights that both were made from */
    bool trained;           /* depends on something trainable: backward runs through it */
    bool for_output;        /* needed for the model's output (else only for the loss) */
} ft__step;

/* A stretch of the run, in steps, during which a block of memory is in use; see ft__place. */
typedef struct ft__block { size_t bytes, offset; int first, last; void **pointer; } ft__block;

struct ft__plan {
    bool training;
    ft__extent most;        /* that it can run */
    uint64_t version;       /* m->version that it was made for */
    ft__step *steps;
    int step_count;
    int first_trained;      /* the steps before this one are the frozen prefix */
    float **values;         /* per node, [id - 1]; those of leaves lie in the node */
    float **gradients;
    void **saved;
    int *last_reader;       /* per node: the last trained step that reads it; -1: none */
    int *shares;            /* per node: the node in whose memory its gradient lies */
    char *trained;          /* per node: depends on something trainable */
    ft__tensor *inputs;     /* scratch for one call */
    void *memory, *workspace, *weights; /* `weights`: folded and prepared ones */
    size_t memory_bytes, workspace_bytes, weight_bytes;
};

static bool ft__is_leaf(const ft__node *node) { return node->op <= FT__OP_state; }

/* What is fed, and what goes from run to run: a row for each sample. */
static bool ft__has_rows(const ft__node *node)
{
    return node->op == FT__OP_input || node->op == FT__OP_state;
}


static bool ft__is_weight(const ft__node *node)
{
    return node->op == FT__OP_parameter || node->op == FT__OP_buffer;
}

/* Pictures and feature maps lie in memory with a pixel's channels together; whoever feeds or reads
   them from outside sees [N, C, H, W]. */
static bool ft__is_channels_last(const ft__node *node)
{
    return node->shape.rank == 4 && node->type == FT_F32 && !ft__is_weight(node);
}

static ft_shape ft__with_extent(ft_shape shape, ft__extent extent)
{
    int d;
    for (d = 0; d < shape.rank; ++d) {
        if (shape.size[d] == FT_BATCH) shape.size[d] = extent.batch;
        if (shape.size[d] == FT_LENGTH) shape.size[d] = extent.length;
    }
    return shape;
}

static size_t ft__node_count_at(const ft__node *node, ft__extent extent)
{
    ft_shape shape = ft__with_extent(node->shape, extent);
    return ft__shape_count(&shape);
}

static bool ft__has_length(const ft__node *node)
{
    int d;
    for (d = 0; d < node->shape.rank; ++d)
        if (node->shape.size[d] == FT_LENGTH) return true;
    return false;
}

static ft__extent ft__extent_of(const ft_model *m, int batch)
{
    ft__extent extent;
    extent.batch = batch > 0 ? batch : 1;
    extent.length = m->length;
    return extent;
}

static bool ft__holds(ft__extent room, ft__extent extent)
{
    return room.batch >= extent.batch && room.length >= extent.length;
}

static ft__extent ft__larger(ft__extent a, ft__extent b)
{
    if (a.batch < b.batch) a.batch = b.batch;
    if (a.length < b.length) a.length = b.length;
    return a;
}

/* Whether two nodes have as many numbers as each other in every run. */
static bool ft__same_count(const ft__node *a, const ft__node *b)
{
    static const ft__extent extents[] = {{1, 1}, {2, 1}, {1, 2}};
    int i;
    for (i = 0; i < 3; ++i)
        if (ft__node_count_at(a, extents[i]) != ft__node_count_at(b, extents[i])) return false;
    return true;
}

/* A batch norm runs in evaluation form, in training too, when its weight and bias are frozen or
   its statistics are: a frozen layer whose statistics drift is not frozen. */
static bool ft__norm_frozen(const ft_model *m, const ft__node *norm)
{
    return (m->nodes[norm->inputs[1] - 1].frozen && m->nodes[norm->inputs[2] - 1].frozen)
        || m->nodes[norm->inputs[3] - 1].frozen;
}

/* ---- Adding nodes ---- */

static ft_node ft__find_node(const ft_model *m, const char *name)
{
    ft_node node = {0};
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].op != FT__OP_none && strcmp(m->nodes[i].name, name) == 0) node.id = i + 1;
    return node;
}

/* Runs a node's shape rule on the shapes that its inputs have now. */
static ft_status ft__infer_shape(ft_model *m, ft__node *node)
{
    ft__context *c = &m->context;
    ft__tensor few[8], *input = few;
    ft_status status;
    int i;
    if (ft__is_leaf(node)) return c->status;
    if (node->input_count > 8)
        input = (ft__tensor *)ft__allocate(c, (size_t)node->input_count, sizeof *input);
    if (!input) return c->status;
    memset(few, 0, sizeof few);
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *from = &m->nodes[node->inputs[i] - 1];
        memset(&input[i], 0, sizeof input[i]);
        input[i].shape = from->shape;
        input[i].type = from->type;
    }
    status = ft__rows[node->op].shape(c, node, input, node->input_count, &node->shape);
    if (input != few) ft__release(c, input);
    return status;
}

static bool ft__grow_nodes(ft_model *m)
{
    int capacity = m->node_capacity ? 2 * m->node_capacity : 64;
    ft__node *nodes;
    int *order;
    if (m->node_count < m->node_capacity) return true;
    nodes = (ft__node *)ft__grow(&m->context, m->nodes, (size_t)m->node_count, (size_t)capacity,
                                 sizeof *nodes);
    if (!nodes) return false;
    m->nodes = nodes;
    order = (int *)ft__grow(&m->context, m->order, (size_t)m->node_count, (size_t)capacity,
                            sizeof *order);
    if (!order) return false;
    m->order = order;
    m->node_capacity = capacity;
    return true;
}

static void ft__release_node(ft__context *c, ft__node *node)
{
    ft__release(c, node->name);
    ft__release(c, node->inputs);
    ft__release(c, node->value);
    ft__release(c, node->gradient);
    ft__release(c, node->moment1);
    ft__release(c, node->moment2);
    ft__release(c, node->kept);
    memset(node, 0, sizeof *node);
}

/* Appends a node; {0} with an error when its inputs do not fit or its name is taken. */
static ft_node ft__add_node(ft_model *m, int op, const char *name, const ft_node *inputs,
                            int count, const ft__options *options)
{
    ft__context *c = &m->context;
    ft_node result = {0};
    ft__node *node;
    char made_up[32];
    int i;
    if (!ft__ok(c)) return result;
    if (!name || !*name) {
        snprintf(made_up, sizeof made_up, "%s_%d", ft__rows[op].name, m->node_count + 1);
        name = made_up;
    }
    if (ft__find_node(m, name).id) {
        ft__fail(c, FT_INVALID, "%s: the network has a node of this name already", name);
        return result;
    }
    for (i = 0; i < count; ++i) {
        const ft__node *input = ft__get_node(m, inputs[i]);
        if (input && input->op != FT__OP_none) continue;
        ft__fail(c, FT_INVALID, "%s: input %d is not a node of this model", name, i + 1);
        return result;
    }
    if (!ft__grow_nodes(m)) return result;
    node = &m->nodes[m->node_count];
    memset(node, 0, sizeof *node);
    node->op = op;
    node->name = ft__copy_text(c, name);
    node->inputs = (int *)ft__allocate(c, (size_t)count + 1, sizeof *node->inputs);
    if (options) node->options = *options;
    node->learning_rate_factor = 1.0f;
    node->weight_decay = -1.0f;
    if (ft__ok(c)) {
        for (i = 0; i < count; ++i) node->inputs[i] = inputs[i].id;
        node->input_count = count;
        ft__infer_shape(m, node);
    }
    if (!ft__ok(c)) {
        ft__release_node(c, node);
        return result;
    }
    m->order[m->node_count] = m->node_count + 1;
    result.id = ++m->node_count;
    m->version += 1;
    return result;
}

/* ---- Surgery and freezing ---- */

/* Shapes after a change, in the order of execution. */
static ft_status ft__infer_all(ft_model *m)
{
    int at;
    for (at = 0; ft__ok(&m->context) && at < m->node_count; ++at)
        if (m->nodes[m->order[at] - 1].op != FT__OP_none)
            ft__infer_shape(m, &m->nodes[m->order[at] - 1]);
    m->version += 1;
    return m->context.status;
}

static void ft__release_training(ft__context *c, ft__node *node)
{
    ft__release(c, node->gradient);
    ft__release(c, node->moment1);
    ft__release(c, node->moment2);
    ft__release(c, node->kept);
    node->gradient = node->moment1 = node->moment2 = node->kept = NULL;
}

/* Parameters, buffers and dropout can be frozen; freezing drops gradient and optimiser state. */
static int ft__set_frozen(ft_model *m, const char *glob, bool frozen)
{
    int i, count = 0;
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node) && node->op != FT__OP_dropout) continue;
        if (!ft__glob(glob, node->name)) continue;
        node->frozen = frozen;
        if (frozen) ft__release_training(&m->context, node);
        count += 1;
    }
    m->version += 1;
    return count;
}

/* A buffer is frozen too when the batch norm that it belongs to runs in evaluation form. */
static bool ft__node_is_frozen(const ft_model *m, const ft__node *node)
{
    int id = (int)(node - m->nodes) + 1, i;
    if (node->frozen || node->op != FT__OP_buffer) return node->frozen;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *norm = &m->nodes[i];
        if (norm->op == FT__OP_batch_norm && (norm->inputs[3] == id || norm->inputs[4] == id))
            return ft__norm_frozen(m, norm);
    }
    return false;
}

/* A hash over names and bytes of all that is frozen. */
static ft_digest ft__digest(ft_model *m)
{
    ft_digest digest = {0, 0};
    int i;
    ft__host_takes_weights(&m->context, false);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node) || !ft__node_is_frozen(m, node)) continue;
        digest.frozen = ft__hash_bytes(digest.frozen, node->name, strlen(node->name));
        digest.frozen = ft__hash_bytes(digest.frozen, node->value,
                                       ft__node_count_at(node, ft__one) * sizeof(float));
        digest.tensors += 1;
    }
    return digest;
}

/* The last linear layer before the output; NULL: there is none. */
static ft__node *ft__head(ft_model *m)
{
    ft__node *node = ft__get_node(m, m->output);
    while (node && node->op != FT__OP_linear)
        node = node->input_count ? &m->nodes[node->inputs[0] - 1] : NULL;
    return node;
}

/* Gives a parameter another first size and fresh values; its node, id and name stay. */
static ft_status ft__resize_parameter(ft_model *m, ft__node *node, int size)
{
    ft__context *c = &m->context;
    ft_shape shape = node->shape;
    float *value;
    shape.size[0] = size;
    value = (float *)ft__allocate(c, ft__shape_count(&shape), sizeof(float));
    if (!value) return c->status;
    ft__release(c, node->value);
    ft__release_training(c, node);
    node->value = value;
    node->shape = shape;
    if (node->fan_out) node->fan_out = size;
    node->frozen = false;
    ft__initialise_node(m, node);
    return c->status;
}

static ft_status ft__replace_head(ft_model *m, int classes)
{
    ft__node *head;
    int i;
    if (!ft__ok(&m->context)) return m->context.status;
    head = ft__head(m);
    if (!head)
        return ft__fail(&m->context, FT_INVALID, "no linear layer leads to the output: there is no"
                        " head to replace");
    if (classes < 1)
        return ft__fail(&m->context, FT_INVALID, "%s: a head of %d classes", head->name, classes);
    for (i = 1; i < head->input_count; ++i)
        ft__resize_parameter(m, &m->nodes[head->inputs[i] - 1], classes);
    m->weights_version += 1;
    return ft__infer_all(m);
}

/* ---- Which operators run, and in which form ---- */

static void ft__plan_free(ft__context *c, ft__plan *plan)
{
    if (!plan) return;
    ft__release(c, plan->workspace);
    ft__release(c, plan->memory);
    ft__release(c, plan->weights);
    ft__release(c, plan->inputs);
    ft__release(c, plan->trained);
    ft__release(c, plan->last_reader);
    ft__release(c, plan->shares);
    ft__release(c, plan->saved);
    ft__release(c, plan->gradients);
    ft__release(c, plan->values);
    ft__release(c, plan->steps);
    ft__release(c, plan);
}

enum { FT__FOR_OUTPUT = 1, FT__FOR_LOSS = 2 };

/* Marks what a target needs, walking the order of execution backwards. */
static void ft__mark_needed(const ft_model *m, int target, char mark, char *needed)
{
    int at, i;
    if (!target) return;
    needed[target - 1] = (char)(needed[target - 1] | mark);
    for (at = m->node_count - 1; at >= 0; --at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!(needed[m->order[at] - 1] & mark)) continue;
        for (i = 0; i < node->input_count; ++i) {
            int input = node->inputs[i] - 1;
            needed[input] = (char)(needed[input] | mark);
        }
    }
}

/* The only node that reads `id`, or 0 when there are none or several. */
static int ft__only_reader(const ft_model *m, const char *needed, int id)
{
    int found = 0, i, j;
    if (id == m->output.id || id == m->loss.id) return 0;
    for (i = 0; i < m->node_count; ++i) {
        if (!needed[i]) continue;
        for (j = 0; j < m->nodes[i].input_count; ++j) {
            if (m->nodes[i].inputs[j] != id) continue;
            if (found) return 0;
            found = i + 1;
        }
    }
    return found;
}

/* Whether a step's own backward sees to the activation that it applied. */
static bool ft__masks(const ft_model *m, const ft__step *step)
{
    int op = step->activation ? m->nodes[step->activation - 1].op : FT__OP_none;
    return (ft__rows[m->nodes[step->id - 1].op].reads & FT__MASKS)
        && (op == FT__OP_relu || op == FT__OP_relu6);
}

/* Extends a step over what follows it and nothing else reads: a batch norm, where nothing is
   trained, and an activation. */
static void ft__fuse(const ft_model *m, const ft__plan *plan, const char *needed, ft__step *step)
{
    int op = m->nodes[step->id - 1].op, next;
    bool trained = plan->trained[step->id - 1] != 0;
    if (!(ft__rows[op].reads & FT__FUSES)) return;
    next = ft__only_reader(m, needed, step->output);
    if (next && !trained && (op == FT__OP_conv2d || op == FT__OP_linear)
        && m->nodes[next - 1].op == FT__OP_batch_norm && !plan->trained[next - 1]
        && m->nodes[next - 1].inputs[0] == step->output) {
        step->norm = step->output = next;
        next = ft__only_reader(m, needed, step->output);
    }
    if (next && (trained ? ft__can_fuse_trained(m->nodes[next - 1].op)
                         : !plan->trained[next - 1] && ft__can_fuse(m->nodes[next - 1].op)))
        step->activation = step->output = next;
}

static void ft__add_steps(const ft_model *m, ft__plan *plan, const char *needed, char *done,
                          bool trained)
{
    int at;
    for (at = 0; at < m->node_count; ++at) {
        int id = m->order[at];
        ft__step *step = &plan->steps[plan->step_count];
        if (!needed[id - 1] || done[id - 1] || ft__is_leaf(&m->nodes[id - 1])) continue;
        if ((plan->trained[id - 1] != 0) != trained) continue;
        memset(step, 0, sizeof *step);
        step->id = step->output = id;
        step->trained = trained;
        ft__fuse(m, plan, needed, step);
        done[step->id - 1] = done[step->output - 1] = 1;
        if (step->norm) done[step->norm - 1] = 1;
        step->for_output = (needed[step->output - 1] & FT__FOR_OUTPUT) != 0;
        plan->step_count += 1;
    }
}

/* Lists the steps: first the frozen prefix, then what depends on something trainable. A fused
   step comes where its first node stood, and only that node's inputs are read: still in order. */
static void ft__plan_steps(ft_model *m, ft__plan *plan)
{
    ft__context *c = &m->context;
    char *needed = (char *)ft__allocate(c, (size_t)m->node_count, 1);
    char *done = (char *)ft__allocate(c, (size_t)m->node_count, 1);
    int at, i;
    if (needed && done) {
        ft__mark_needed(m, m->output.id, FT__FOR_OUTPUT, needed);
        ft__mark_needed(m, m->loss.id, FT__FOR_LOSS, needed);
        for (at = 0; plan->training && at < m->node_count; ++at) {
            const ft__node *node = &m->nodes[m->order[at] - 1];
            bool trained = node->op == FT__OP_parameter && !node->frozen;
            for (i = 0; i < node->input_count; ++i)
                if (plan->trained[node->inputs[i] - 1]) trained = true;
            plan->trained[m->order[at] - 1] = trained;
        }
        ft__add_steps(m, plan, needed, done, false);
        plan->first_trained = plan->step_count;
        ft__add_steps(m, plan, needed, done, true);
    }
    ft__release(c, done);
    ft__release(c, needed);
}

/* ---- Where values lie ---- */

/* The call of a step, for a batch; value pointers are filled in where they are known. */
static ft__call ft__make_call(ft_model *m, const ft__plan *plan, const ft__step *step,
                              ft__extent extent, bool backward)
{
    const ft__node *node = &m->nodes[step->id - 1], *output = &m->nodes[step->output - 1];
    ft__call call;
    int i;
    memset(&call, 0, sizeof call);
    for (i = 0; i < node->input_count; ++i) {
        int id = node->inputs[i];
        const ft__node *from = &m->nodes[id - 1];
        ft__tensor *input = &plan->inputs[i];
        input->shape = ft__with_extent(from->shape, extent);
        input->type = from->type;
        input->channels_last = ft__is_channels_last(from);
        input->fresh = false;
        input->value = ft__is_leaf(from) ? from->value : plan->values[id - 1];
        input->gradient = !backward ? NULL : from->op == FT__OP_parameter ? from->gradient
                                                                         : plan->gradients[id - 1];
    }
    call.input_count = node->input_count;
    if (step->weight) plan->inputs[1].value = step->weight;
    if (step->bias) {
        ft__tensor *bias = &plan->inputs[2];
        memset(bias, 0, sizeof *bias);
        bias->shape.rank = 1;
        bias->shape.size[0] = plan->inputs[1].shape.size[0];
        bias->value = step->bias;
        call.input_count = 3;
    }
    call.context = &m->context;
    call.node = node;
    call.input = plan->inputs;
    call.output.shape = ft__with_extent(output->shape, extent);
    call.output.channels_last = ft__is_channels_last(output);
    call.output.value = plan->values[step->output - 1];
    call.output.gradient = backward ? plan->gradients[step->output - 1] : NULL;
    call.saved = plan->saved[step->id - 1];
    call.workspace = (float *)plan->workspace;
    call.prepared = step->prepared;
    call.training = step->trained
        && !(node->op == FT__OP_batch_norm && ft__norm_frozen(m, node));
    call.random = ft__key(m->context.desc.seed, m->step, (uint64_t)step->id, FT__USE_DROPOUT);
    if (step->activation) {
        call.fused = m->nodes[step->activation - 1].op;
        call.fused_options = &m->nodes[step->activation - 1].options;
    }
    return call;
}

/* What an operator will need for a batch; no values are touched. */
static ft__costs ft__costs_of(ft_model *m, const ft__node *node, ft__extent extent,
                              bool training)
{
    ft__tensor input[16];
    ft__costs costs = {0, 0, 0, 0};
    ft__call call;
    int i;
    if (!ft__rows[node->op].costs || node->input_count > 16) return costs;
    memset(&call, 0, sizeof call);
    memset(input, 0, sizeof input);
    for (i = 0; i < node->input_count; ++i) {
        input[i].shape = ft__with_extent(m->nodes[node->inputs[i] - 1].shape, extent);
        input[i].type = m->nodes[node->inputs[i] - 1].type;
    }
    call.context = &m->context;
    call.node = node;
    call.input = input;
    call.input_count = node->input_count;
    call.output.shape = ft__with_extent(node->shape, extent);
    call.training = training;
    ft__rows[node->op].costs(&call, &costs);
    if (m->context.device) costs.prepared = 0; /* a device reads weights as they are */
    return costs;
}

/* Gives every block an offset such that blocks in use at the same time do not overlap: largest
   first, each as low as it fits. Returns the bytes that all take together. */
static size_t ft__place(ft__block *blocks, int count)
{
    size_t total = 0;
    int i, j;
    for (i = 1; i < count; ++i) { /* insertion sort: stable, a few hundred blocks at most */
        ft__block block = blocks[i];
        for (j = i; j > 0 && blocks[j - 1].bytes < block.bytes; --j) blocks[j] = blocks[j - 1];
        blocks[j] = block;
    }
    for (i = 0; i < count; ++i) {
        ft__block *block = &blocks[i];
        bool moved = true;
        block->offset = 0;
        while (moved) { /* up past whatever is in the way, until nothing is */
            moved = false;
            for (j = 0; j < i; ++j) {
                ft__block *other = &blocks[j];
                if (other->last < block->first || other->first > block->last) continue;
                if (other->offset + other->bytes <= block->offset) continue;
                if (block->offset + block->bytes <= other->offset) continue;
                block->offset = other->offset + other->bytes;
                moved = true;
            }
        }
        if (block->offset + block->bytes > total) total = block->offset + block->bytes;
    }
    return total;
}

static size_t ft__round_up(size_t bytes)
{
    return (bytes + FT__DEVICE_ALIGNMENT - 1) / FT__DEVICE_ALIGNMENT * FT__DEVICE_ALIGNMENT;
}

/* Whether backward of a step needs its output: to know an activation's slope, its own or one that
   it applied. */
static bool ft__keeps_output(const ft_model *m, const ft__step *step)
{
    int reads = ft__rows[m->nodes[step->id - 1].op].reads;
    return (reads & FT__READS_Y) || (step->activation && !ft__masks(m, step));
}

/* The last moment at which a node's value is read. Step i runs forward at moment i and backward at
   moment 2 * step_count - i. */
static int ft__last_use(const ft_model *m, const ft__plan *plan, int id, int made_by)
{
    int end = 2 * plan->step_count + 1, last = made_by, i, j;
    if (id == m->output.id || id == m->loss.id) return end;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *reader = &m->nodes[step->id - 1];
        for (j = 0; j < reader->input_count; ++j) {
            if (reader->inputs[j] != id) continue;
            if (i > last) last = i;
            if (step->trained && (ft__rows[reader->op].reads & FT__READS_X)
                && 2 * plan->step_count - i > last)
                last = 2 * plan->step_count - i;
        }
        if (step->output == id && step->trained && ft__keeps_output(m, step)
            && 2 * plan->step_count - i > last)
            last = 2 * plan->step_count - i;
    }
    return last;
}

static bool ft__has_gradient(const ft_model *m, const ft__plan *plan, int id)
{
    return plan->trained[id - 1] && (plan->last_reader[id - 1] >= 0 || id == m->loss.id);
}

/* A gradient may take the memory of the gradient that it is made from, where the operator works in
   place and is the first to write it: from the end, so that chains share one block. */
static void ft__plan_shares(const ft_model *m, ft__plan *plan)
{
    int i, j;
    for (i = 0; i < m->node_count; ++i) plan->shares[i] = i + 1;
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        const ft__step *step = &plan->steps[i];
        const ft__node *node = &m->nodes[step->id - 1];
        int id = node->input_count ? node->inputs[0] : 0;
        bool fits = id && (ft__rows[node->op].reads & FT__IN_PLACE)
            && ft__has_gradient(m, plan, id) && ft__has_gradient(m, plan, step->output)
            && !ft__is_leaf(&m->nodes[id - 1]) && plan->last_reader[id - 1] == i
            && ft__same_count(&m->nodes[id - 1], &m->nodes[step->output - 1]);
        for (j = 1; j < node->input_count; ++j) fits = fits && node->inputs[j] != id;
        if (fits) plan->shares[id - 1] = plan->shares[step->output - 1];
    }
}

/* The blocks of one node: value, gradient, saved. Parameters' live outside of the plan. */
static int ft__node_blocks(const ft_model *m, ft__plan *plan, int id, int made_by,
                           ft__block *blocks)
{
    const ft__node *node = &m->nodes[id - 1];
    size_t bytes = ft__round_up(ft__node_count_at(node, plan->most) * sizeof(float));
    int count = 0, backward_of_it = 2 * plan->step_count - made_by;
    ft__block block;
    memset(&block, 0, sizeof block);
    block.bytes = bytes;
    block.first = made_by;
    block.last = ft__last_use(m, plan, id, made_by);
    block.pointer = (void **)(void *)&plan->values[id - 1];
    blocks[count++] = block;
    if (ft__has_gradient(m, plan, id) && plan->shares[id - 1] == id) {
        int reader = plan->last_reader[id - 1], i;
        block.first = reader < 0 ? plan->step_count : 2 * plan->step_count - reader;
        block.last = backward_of_it;
        for (i = 0; i < made_by; ++i) /* the earliest of those that share it is done last */
            if (plan->shares[plan->steps[i].output - 1] == id
                && 2 * plan->step_count - i > block.last)
                block.last = 2 * plan->step_count - i;
        block.pointer = (void **)(void *)&plan->gradients[id - 1];
        blocks[count++] = block;
    }
    return count;
}

static int ft__list_blocks(ft_model *m, ft__plan *plan, ft__block *blocks)
{
    int count = 0, i;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__step *step = &plan->steps[i];
        ft__costs costs = ft__costs_of(m, &m->nodes[step->id - 1], plan->most, step->trained);
        count += ft__node_blocks(m, plan, step->output, i, blocks + count);
        if (costs.workspace > plan->workspace_bytes) plan->workspace_bytes = costs.workspace;
        if (costs.saved) {
            ft__block *block = &blocks[count++];
            memset(block, 0, sizeof *block);
            block->bytes = ft__round_up(costs.saved);
            block->first = i;
            block->last = step->trained ? 2 * plan->step_count - i : i;
            block->pointer = &plan->saved[step->id - 1];
        }
    }
    return count;
}

/* Gives the next block of the plan's weights; before they are allocated, only counts. */
static float *ft__plan_weight(ft__plan *plan, size_t bytes)
{
    size_t at = plan->weight_bytes;
    plan->weight_bytes += ft__round_up(bytes);
    return plan->weights ? (float *)(void *)((char *)plan->weights + at) : NULL;
}

/* Prepared and folded weights of the steps that are not trained. Folded ones that are only made to
   be prepared share one place. */
static void ft__plan_weights(ft_model *m, ft__plan *plan)
{
    size_t passing = 0;
    float *shared;
    int i;
    plan->weight_bytes = 0;
    for (i = 0; i < plan->step_count; ++i) {
        const ft__node *node = &m->nodes[plan->steps[i].id - 1];
        ft__costs costs = ft__costs_of(m, node, plan->most, false);
        size_t bytes;
        if (!plan->steps[i].norm || !costs.prepared) continue;
        bytes = ft__node_count_at(&m->nodes[node->inputs[1] - 1], ft__one) * sizeof(float);
        if (bytes > passing) passing = bytes;
    }
    shared = ft__plan_weight(plan, passing);
    for (i = 0; i < plan->step_count; ++i) {
        ft__step *step = &plan->steps[i];
        const ft__node *node = &m->nodes[step->id - 1];
        ft__costs costs = ft__costs_of(m, node, plan->most, false);
        step->prepared_for = ~(uint64_t)0;
        if (costs.prepared && !step->trained)
            step->prepared = ft__plan_weight(plan, costs.prepared);
        if (!step->norm) continue;
        step->weight = costs.prepared ? shared : ft__plan_weight(
            plan, ft__node_count_at(&m->nodes[node->inputs[1] - 1], ft__one) * sizeof(float));
        step->bias = ft__plan_weight(plan, (size_t)m->nodes[node->inputs[1] - 1].shape.size[0]
                                     * sizeof(float));
    }
}

static void ft__plan_readers(const ft_model *m, ft__plan *plan)
{
    int i, j;
    for (i = 0; i < m->node_count; ++i) plan->last_reader[i] = -1;
    for (i = plan->first_trained; i < plan->step_count; ++i) {
        const ft__node *node = &m->nodes[plan->steps[i].id - 1];
        for (j = 0; j < node->input_count; ++j) plan->last_reader[node->inputs[j] - 1] = i;
    }
}

static int ft__most_inputs(const ft_model *m)
{
    int most = 3, i; /* three: a folded bias may be added */
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].input_count > most) most = m->nodes[i].input_count;
    return most;
}

/* Makes a plan; `measure` stops before the large memory is taken, to tell its bytes only. */
static ft__plan *ft__plan_make(ft_model *m, ft__extent most, bool training, bool measure)
{
    ft__context *c = &m->context;
    size_t nodes = (size_t)m->node_count + 1;
    ft__plan *plan = (ft__plan *)ft__allocate(c, 1, sizeof *plan);
    ft__block *blocks = NULL;
    int count, i;
    if (!plan) return NULL;
    plan->training = training;
    plan->most = most;
    plan->version = m->version;
    plan->steps = (ft__step *)ft__allocate(c, nodes, sizeof *plan->steps);
    plan->values = (float **)ft__allocate(c, nodes, sizeof *plan->values);
    plan->gradients = (float **)ft__allocate(c, nodes, sizeof *plan->gradients);
    plan->saved = (void **)ft__allocate(c, nodes, sizeof *plan->saved);
    plan->last_reader = (int *)ft__allocate(c, nodes, sizeof *plan->last_reader);
    plan->shares = (int *)ft__allocate(c, nodes, sizeof *plan->shares);
    plan->trained = (char *)ft__allocate(c, nodes, 1);
    plan->inputs = (ft__tensor *)ft__allocate(c, (size_t)ft__most_inputs(m),
                                              sizeof *plan->inputs);
    if (ft__ok(c)) ft__plan_steps(m, plan);
    if (ft__ok(c)) blocks = (ft__block *)ft__allocate(c, 3 * nodes, sizeof *blocks);
    if (ft__ok(c)) {
        ft__plan_readers(m, plan);
        ft__plan_shares(m, plan);
        ft__plan_weights(m, plan);
        count = ft__list_blocks(m, plan, blocks);
        plan->memory_bytes = ft__place(blocks, count);
        if (!measure) {
            plan->workspace = ft__allocate(c, plan->workspace_bytes, 1);
            plan->memory = ft__allocate(c, plan->memory_bytes, 1);
            plan->weights = ft__allocate(c, plan->weight_bytes, 1);
            ft__device_plan(c, plan->memory, plan->memory_bytes);
            ft__device_plan(c, plan->weights, plan->weight_bytes);
        }
        for (i = 0; !measure && ft__ok(c) && i < count; ++i)
            *blocks[i].pointer = (char *)plan->memory + blocks[i].offset;
        for (i = 0; !measure && ft__ok(c) && i < m->node_count; ++i)
            plan->gradients[i] = plan->gradients[plan->shares[i] - 1];
        if (!measure && ft__ok(c)) ft__plan_weights(m, plan);
    }
    ft__release(c, blocks);
    if (ft__ok(c)) return plan;
    ft__plan_free(c, plan);
    return NULL;
}

/* Gradient memory of what is trained, and room for a run of this size in every input. */
static ft_status ft__plan_leaves(ft_model *m, ft__extent extent, bool training)
{
    ft__context *c = &m->context;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (ft__has_rows(node) && !ft__holds(node->capacity, extent)) {
            ft__extent room = ft__larger(node->capacity, extent);
            float *grown = (float *)ft__grow(c, node->value, node->value
                                             ? ft__node_count_at(node, node->capacity) : 0,
                                             ft__node_count_at(node, room), sizeof(float));
            if (!grown) return c->status;
            node->value = grown;
            node->capacity = room;
        }
        if (!training || node->op != FT__OP_parameter || node->frozen || node->gradient) continue;
        node->gradient = (float *)ft__allocate(c, ft__node_count_at(node, ft__one), sizeof(float));
    }
    return c->status;
}

/* The plan for a purpose, made anew when the graph, what is frozen, or the run outgrew it. */
static ft__plan *ft__plan_for(ft_model *m, ft__extent extent, bool training)
{
    ft__plan *plan = m->plans[training];
    if (ft__plan_leaves(m, extent, training) != FT_OK) return NULL;
    if (plan && plan->version == m->version && ft__holds(plan->most, extent)) return plan;
    if (plan && plan->version == m->version) extent = ft__larger(plan->most, extent);
    if (m->last_run == plan) m->last_run = NULL;
    ft__plan_free(&m->context, plan);
    m->plans[training] = NULL;
    m->plans[training] = ft__plan_make(m, extent, training, false);
    return m->plans[training];
}

/* =============================================================================================
   [SECTION] 10.1 Graph: running
   ============================================================================================= */

static double ft__clock(const ft__context *c)
{
    return c->desc.clock ? c->desc.clock(c->desc.clock_user) : 0;
}

/* Folds y = (x - mean) / sqrt(var + eps) * gamma + beta into the weight and bias before it:
   weight' = weight * s, bias' = (bias - mean) * s + beta, s = gamma / sqrt(var + eps). */
static void ft__fold(const ft_model *m, const ft__step *step)
{
    const ft__node *node = &m->nodes[step->id - 1], *norm = &m->nodes[step->norm - 1];
    const ft__node *weight = &m->nodes[node->inputs[1] - 1];
    const float *bias = node->input_count > 2 ? m->nodes[node->inputs[2] - 1].value : NULL;
    const float *gamma = m->nodes[norm->inputs[1] - 1].value;
    const float *beta = m->nodes[norm->inputs[2] - 1].value;
    const float *mean = m->nodes[norm->inputs[3] - 1].value;
    const float *var = m->nodes[norm->inputs[4] - 1].value;
    float eps = norm->options.batch_norm.eps > 0 ? norm->options.batch_norm.eps : 1e-5f;
    size_t channels = (size_t)weight->shape.size[0], i, each;
    size_t per_channel = ft__node_count_at(weight, ft__one) / channels;
    for (i = 0; i < channels; ++i) {
        float scale = gamma[i] / sqrtf(var[i] + eps);
        const float *from = weight->value + i * per_channel;
        float *to = step->weight + i * per_channel;
        for (each = 0; each < per_channel; ++each) to[each] = from[each] * scale;
        step->bias[i] = ((bias ? bias[i] : 0.0f) - mean[i]) * scale + beta[i];
    }
}

/* What a step's folded and prepared weights were made from: training moves those that are not
   frozen; loading, surgery and the like any. */
static uint64_t ft__weights_of_step(const ft_model *m, const ft__step *step)
{
    const ft__node *node = &m->nodes[step->id - 1];
    bool moving = false;
    int input;
    for (input = 1; input < node->input_count; ++input) /* but those that are fed */
        moving = moving || !(ft__has_rows(&m->nodes[node->inputs[input] - 1])
                             || m->nodes[node->inputs[input] - 1].frozen);
    if (step->norm) {
        const ft__node *norm = &m->nodes[step->norm - 1];
        int i;
        if (node->input_count > 2 && !m->nodes[node->inputs[2] - 1].frozen) moving = true;
        for (i = 1; i < 5; ++i)
            if (!m->nodes[norm->inputs[i] - 1].frozen) moving = true;
        if (ft__norm_frozen(m, norm) && m->nodes[node->inputs[1] - 1].frozen) moving = false;
    }
    return (m->weights_version << 32) + (moving ? m->trained_version & 0xffffffff : 0);
}

enum { FT__ONLY_OUTPUT = 1, FT__EVALUATING = 2 };

/* Runs steps [from, to) forward on `batch` samples: without the loss where there are no labels,
   and in evaluation form where a plan for training is used to measure. */
static void ft__run_forward(ft_model *m, ft__plan *plan, int from, int to, int batch, int how)
{
    int i;
    if (plan->training && !(how & FT__EVALUATING)) m->trained_version += 1; /* statistics move */
    for (i = from; i < to; ++i) {
        ft__step *step = &plan->steps[i];
        ft__call call;
        double start;
        if ((how & FT__ONLY_OUTPUT) && !step->for_output) continue;
        call = ft__make_call(m, plan, step, ft__extent_of(m, batch), false);
        if (how & FT__EVALUATING) call.training = false;
        start = ft__clock(&m->context);
        if (step->weight || step->prepared) {
            uint64_t now = ft__weights_of_step(m, step);
            call.prepare = step->prepared_for != now;
            if (call.prepare && step->norm) {
                ft__host_takes_weights(&m->context, false);
                ft__fold(m, step);
                ft__host_wrote(&m->context, step->weight);
                ft__host_wrote(&m->context, step->bias);
            }
            step->prepared_for = now;
        }
        ft__run_operator(&call, false);
        m->nodes[step->id - 1].time.forward += ft__clock(&m->context) - start;
    }
}

/* The first to add to a gradient is the last reader, for backward runs from the end: it may write
   instead, or the gradient is set to zero before. Parameters' are zeroed by the update. */
static void ft__fresh_gradients(ft_model *m, const ft__plan *plan, int at, int batch, bool writes)
{
    const ft__node *node = &m->nodes[plan->steps[at].id - 1];
    int i, j;
    for (i = 0; i < node->input_count; ++i) {
        int id = node->inputs[i];
        bool twice = false;
        if (!plan->gradients[id - 1] || plan->last_reader[id - 1] != at) continue;
        for (j = 0; j < node->input_count; ++j) twice = twice || (j != i && node->inputs[j] == id);
        if (writes && !twice) plan->inputs[i].fresh = true;
        else ft__set_numbers(&m->context, plan->gradients[id - 1],
                             ft__node_count_at(&m->nodes[id - 1], ft__extent_of(m, batch)), 0);
    }
}

static void ft__run_backward(ft_model *m, const ft__plan *plan, int batch)
{
    int i;
    ft__set_numbers(&m->context, plan->gradients[m->loss.id - 1], 1, 1.0f);
    for (i = plan->step_count - 1; i >= plan->first_trained; --i) {
        const ft__step *step = &plan->steps[i];
        ft__call call = ft__make_call(m, plan, step, ft__extent_of(m, batch), true);
        ft__operator backward = ft__rows[m->nodes[step->id - 1].op].backward;
        double start = ft__clock(&m->context);
        bool runs = call.output.gradient && backward;
        ft__fresh_gradients(m, plan, i, batch, runs && (ft__runs_on_device(&call)
            || (ft__rows[m->nodes[step->id - 1].op].reads & FT__WRITES)));
        if (runs && step->activation && !ft__masks(m, step)) ft__run_activation_back(&call);
        if (runs) ft__run_operator(&call, true);
        m->nodes[step->id - 1].time.backward += ft__clock(&m->context) - start;
    }
}

/* What a picture or ft_run's values are fed to: the first input of numbers or, where there is none,
   the first one (token ids). {0}: there is none. */
static ft_node ft__main_input(const ft_model *m)
{
    ft_node first = {0}, numbers = {0};
    int i;
    for (i = m->node_count - 1; i >= 0; --i) {
        if (m->nodes[i].op != FT__OP_input) continue;
        first.id = i + 1;
        if (m->nodes[i].type == FT_F32) numbers.id = i + 1;
    }
    return numbers.id ? numbers : first;
}

/* Between the order that users see, [N, C, H, W], and what lies in memory. */
static void ft__fill_input(ft_model *m, ft__node *node, const void *values, int batch)
{
    ft_shape shape = ft__with_extent(node->shape, ft__extent_of(m, batch));
    if (ft__is_channels_last(node))
        ft__turn(&m->context, &shape, FT__TO_LAST, (const float *)values, node->value, false);
    else memcpy(node->value, values, ft__shape_count(&shape) * sizeof(float));
    ft__host_wrote(&m->context, node->value);
}

static void ft__read_value(ft_model *m, const ft__node *node, const float *value, int batch,
                           float *to)
{
    ft_shape shape = ft__with_extent(node->shape, ft__extent_of(m, batch));
    ft__to_host(&m->context, value, ft__shape_count(&shape) * sizeof(float));
    if (ft__is_channels_last(node))
        ft__turn(&m->context, &shape, FT__TO_FIRST, value, to, false);
    else memcpy(to, value, ft__shape_count(&shape) * sizeof(float));
}

/* Checks everything that a run needs, so that the operators need not. */
static ft_status ft__ready(ft_model *m, bool with_loss)
{
    ft__context *c = &m->context;
    if (!ft__ok(c)) return c->status;
    if (with_loss && !m->loss.id)
        return ft__fail(c, FT_INVALID, "the model has no loss: call ft_set_loss");
    if (!m->output.id && !m->loss.id)
        return ft__fail(c, FT_INVALID, "the model has no output: load or build a network first");
    return FT_OK;
}

/* Makes room for `batch` samples in the inputs and the plan; values may then be written. */
static ft__plan *ft__begin(ft_model *m, int batch, bool training)
{
    if (batch < 1) {
        ft__fail(&m->context, FT_INVALID, "a batch of %d samples", batch);
        return NULL;
    }
    if (ft__ready(m, training) != FT_OK) return NULL;
    m->batch = batch;
    return ft__plan_for(m, ft__extent_of(m, batch), training);
}

/* The value of the loss in the last run; an error when it is not finite. */
static float ft__read_loss(ft_model *m, const ft__plan *plan)
{
    float loss;
    ft__to_host(&m->context, plan->values[m->loss.id - 1], sizeof loss);
    loss = plan->values[m->loss.id - 1][0];
    if (!(fabs((double)loss) <= 3e38))
        ft__fail(&m->context, FT_NOT_FINITE, "step %llu: the loss is not finite (a smaller learning"
                 " rate may help; or is there a label that is not a class?)",
                 (unsigned long long)m->step);
    return loss;
}

/* =============================================================================================
   [SECTION] 11 Optimisers and schedules
   What is frozen has no gradient, no state here, and sees no weight decay.
   ============================================================================================= */
struct ft__optimizer {
    ft_optimizer_options options;
    uint64_t updates;           /* made so far */
    struct ft__update_part *parts; /* all that is trained, in chunks */
    int part_count, part_capacity;
    float *sums;                /* of squares, from a device */
    size_t sum_count;
};

static ft_optimizer_options ft__optimizer_defaults(ft_optimizer_options o)
{
    if (o.learning_rate == 0) o.learning_rate = o.optimizer == FT_SGD ? 1e-2f : 1e-3f;
    if (o.beta1 == 0) o.beta1 = 0.9f;
    if (o.beta2 == 0) o.beta2 = 0.999f;
    if (o.eps == 0) o.eps = 1e-8f;
    return o;
}

/* Starts an optimiser anew: no momentum, no updates made. */
static ft_status ft__set_optimizer(ft_model *m, ft_optimizer_options options)
{
    ft__context *c = &m->context;
    int i;
    if (!ft__ok(c)) return c->status;
    if ((unsigned)options.optimizer > FT_SGD)
        return ft__fail(c, FT_INVALID, "optimizer %d: there are FT_ADAMW, FT_ADAM, FT_SGD",
                        (int)options.optimizer);
    if (!(options.learning_rate >= 0) || !(options.momentum >= 0) || !(options.weight_decay >= 0)
        || !(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1))
        return ft__fail(c, FT_INVALID, "learning rate %g, momentum %g, weight decay %g, betas %g"
                        " and %g: none may be negative, betas are below 1",
                        (double)options.learning_rate, (double)options.momentum,
                        (double)options.weight_decay, (double)options.beta1,
                        (double)options.beta2);
    if (!m->optimizer) m->optimizer = (ft__optimizer *)ft__allocate(c, 1, sizeof *m->optimizer);
    if (!m->optimizer) return c->status;
    m->optimizer->options = ft__optimizer_defaults(options);
    m->optimizer->updates = 0;
    for (i = 0; i < m->node_count; ++i) {
        ft__release(c, m->nodes[i].moment1);
        ft__release(c, m->nodes[i].moment2);
        m->nodes[i].moment1 = m->nodes[i].moment2 = NULL;
    }
    return c->status;
}

/* A chunk of a parameter, and the sum of its gradient's squares. */
typedef struct ft__update_part { ft__node *node; size_t from, to; double squares; }
    ft__update_part;

/* Everything that the update of one parameter needs; constant over its elements. */
typedef struct ft__update {
    const ft__optimizer *optimizer;
    ft__node *node;
    float learning_rate, weight_decay, gradient_scale;
    float correction1, correction2; /* Adam's: 1 - beta1^t, sqrt(1 - beta2^t) */
} ft__update;

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options /* a vector of square roots cannot set errno */
#pragma GCC optimize("O3", "fp-contract=fast", "no-math-errno")
#endif

#define FT__UPDATE_CHUNK ((size_t)1 << 14)

/* Updates also set the gradient to zero for the next step.
   SGD as PyTorch's: buffer = momentum * buffer + g, p -= lr * buffer (Nesterov: g + momentum *
   buffer); weight decay is added to g. Sutskever et al. 2013 in the form that PyTorch documents. */
FT__INLINE void ft__update_sgd_body(const ft__update *u, size_t from, size_t to)
{
    float *p = u->node->value, *buffer = u->node->moment1;
    float momentum = u->optimizer->options.momentum;
    bool nesterov = u->optimizer->options.nesterov;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = u->node->gradient[i] * u->gradient_scale + u->weight_decay * p[i];
        if (momentum != 0) {
            buffer[i] = momentum * buffer[i] + g;
            g = nesterov ? g + momentum * buffer[i] : buffer[i];
        }
        p[i] -= u->learning_rate * g;
        u->node->gradient[i] = 0;
    }
}

/* Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), which differ in where weight
   decay acts: on the gradient, or on the weight itself. */
FT__INLINE void ft__update_adam_body(const ft__update *u, size_t from, size_t to)
{
    const ft_optimizer_options *o = &u->optimizer->options;
    float *FT__RESTRICT p = u->node->value, *FT__RESTRICT m = u->node->moment1;
    float *FT__RESTRICT v = u->node->moment2, *FT__RESTRICT gradient = u->node->gradient;
    float beta1 = o->beta1, beta2 = o->beta2, eps = o->eps, scale = u->gradient_scale;
    float correction2 = u->correction2;
    float decay_weight = o->optimizer == FT_ADAMW ? 1 - u->learning_rate * u->weight_decay : 1;
    float decay_gradient = o->optimizer == FT_ADAMW ? 0 : u->weight_decay;
    float step = u->learning_rate / u->correction1;
    size_t i;
    for (i = from; i < to; ++i) {
        float g = gradient[i] * scale + decay_gradient * p[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        p[i] = p[i] * decay_weight - step * m[i] / (sqrtf(v[i]) / correction2 + eps);
        gradient[i] = 0;
    }
}

/* The sum of squares of a chunk, in double. */
FT__INLINE void ft__squares_body(ft__update_part *part)
{
    double lanes[16] = {0}, sum = 0;
    const float *g = part->node->gradient;
    size_t i = part->from, l;
    for (; i + 16 <= part->to; i += 16)
        for (l = 0; l < 16; ++l) lanes[l] += (double)g[i + l] * (double)g[i + l];
    for (; i < part->to; ++i) lanes[0] += (double)g[i] * (double)g[i];
    for (l = 0; l < 16; ++l) sum += lanes[l];
    part->squares = sum;
}

FT__LEVELS(ft__update_sgd, (const ft__update *u, size_t from, size_t to),
           ft__update_sgd_body(u, from, to))
FT__LEVELS(ft__update_adam, (const ft__update *u, size_t from, size_t to),
           ft__update_adam_body(u, from, to))
FT__LEVELS(ft__squares, (ft__update_part *part), ft__squares_body(part))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif

static double ft__power(double base, uint64_t exponent) /* by squaring: no libm, same bits */
{
    double result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

static bool ft__is_trained(const ft__node *node)
{
    return node->op == FT__OP_parameter && !node->frozen && node->gradient;
}

/* Lists all that is trained, in chunks that the threads take. */
static ft_status ft__optimizer_parts(ft_model *m)
{
    ft__context *c = &m->context;
    ft__optimizer *o = m->optimizer;
    size_t from, wanted = 0;
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_trained(&m->nodes[i]))
            wanted += ft__node_count_at(&m->nodes[i], ft__one) / FT__UPDATE_CHUNK + 1;
    if (wanted > (size_t)o->part_capacity) {
        ft__release(c, o->parts);
        o->parts = (ft__update_part *)ft__allocate(c, wanted, sizeof *o->parts);
        o->part_capacity = o->parts ? (int)wanted : 0;
        if (!o->parts) return c->status;
    }
    o->part_count = 0;
    for (i = 0; i < m->node_count; ++i) {
        size_t count = ft__node_count_at(&m->nodes[i], ft__one);
        for (from = 0; ft__is_trained(&m->nodes[i]) && from < count; from += FT__UPDATE_CHUNK) {
            ft__update_part *part = &o->parts[o->part_count++];
            part->node = &m->nodes[i];
            part->from = from;
            part->to = count - from < FT__UPDATE_CHUNK ? count : from + FT__UPDATE_CHUNK;
        }
    }
    return c->status;
}

/* Memory of the optimiser for what is trained, made before the first step. */
static ft_status ft__optimizer_prepare(ft_model *m)
{
    ft__context *c = &m->context;
    ft__optimizer *o = m->optimizer;
    int i;
    if (!o || !ft__ok(c)) return c->status;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one);
        if (!ft__is_trained(node)) continue;
        if (!node->moment1 && (o->options.optimizer != FT_SGD || o->options.momentum != 0))
            node->moment1 = (float *)ft__allocate(c, count, sizeof(float));
        if (!node->moment2 && o->options.optimizer != FT_SGD)
            node->moment2 = (float *)ft__allocate(c, count, sizeof(float));
    }
    return ft__ok(c) ? ft__optimizer_parts(m) : c->status;
}

/* The norm of all gradients together; not finite when any of them is not. */
static void ft__squares_of_part(void *context, int index)
{
    const ft_model *m = (const ft_model *)context;
    ft__squares[m->context.simd](&m->optimizer->parts[index]);
}

static double ft__gradient_norm(ft_model *m)
{
    double sum = 0;
    int i;
    ft__parallel(&m->context, m->optimizer->part_count, ft__squares_of_part, m);
    for (i = 0; i < m->optimizer->part_count; ++i) sum += m->optimizer->parts[i].squares;
    return sqrt(sum);
}

typedef struct ft__update_job { ft_model *m; ft__update u; } ft__update_job;

static void ft__update_of_part(void *context, int index)
{
    const ft__update_job *job = (const ft__update_job *)context;
    const ft__update_part *part = &job->m->optimizer->parts[index];
    ft__update u = job->u;
    u.node = part->node;
    u.learning_rate *= part->node->learning_rate_factor;
    if (part->node->weight_decay >= 0) u.weight_decay = part->node->weight_decay;
    if (u.optimizer->options.optimizer == FT_SGD)
        ft__update_sgd[job->m->context.simd](&u, part->from, part->to);
    else ft__update_adam[job->m->context.simd](&u, part->from, part->to);
}

#ifdef FINETUNE_OPENCL
/* Room for what the device sums up, made in the first step. */
static float *ft__optimizer_sums(ft_model *m, size_t count)
{
    ft__optimizer *o = m->optimizer;
    if (o->sum_count >= count) return o->sums;
    ft__release(&m->context, o->sums);
    o->sums = (float *)ft__allocate(&m->context, count, sizeof *o->sums);
    o->sum_count = o->sums ? count : 0;
    return o->sums;
}

/* On the device: the norm's squares are summed there in parts, which come down together. */
static double ft__device_norm(ft_model *m)
{
    ft__context *c = &m->context;
    size_t parts = 0, at = 0, part, count, blocks;
    double sum = 0;
    float *sums;
    int i;
    for (i = 0; i < m->node_count; ++i)
        if (ft__is_trained(&m->nodes[i]))
            parts += ft__squares_parts(ft__node_count_at(&m->nodes[i], ft__one));
    sums = ft__optimizer_sums(m, parts);
    for (i = 0; i < m->node_count && sums; ++i) {
        if (!ft__is_trained(&m->nodes[i])) continue;
        count = ft__node_count_at(&m->nodes[i], ft__one);
        blocks = ft__squares_parts(count);
        ft__device_squares(c, m->nodes[i].gradient, count, sums, parts, at, blocks);
        at += blocks;
    }
    if (sums) ft__to_host(c, sums, parts * sizeof *sums);
    for (part = 0; sums && part < parts; ++part) sum += (double)sums[part];
    return sqrt(sum);
}

static void ft__device_update(ft_model *m, const ft__update *update)
{
    const ft_optimizer_options *o = &update->optimizer->options;
    bool decoupled = o->optimizer == FT_ADAMW;
    int i;
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count = ft__node_count_at(node, ft__one);
        float rate = update->learning_rate * node->learning_rate_factor;
        float decay = node->weight_decay >= 0 ? node->weight_decay : update->weight_decay;
        ft__launch l;
        if (!ft__is_trained(node)) continue;
        l = ft__start(&m->context, o->optimizer == FT_SGD ? "update_sgd" : "update_adam");
        ft__pass_memory(&l, node->value, count, FT__READ | FT__WRITE);
        ft__pass_memory(&l, node->gradient, count, FT__READ | FT__WRITE);
        ft__pass_memory(&l, node->moment1, count, FT__READ | FT__WRITE);
        if (o->optimizer != FT_SGD)
            ft__pass_memory(&l, node->moment2, count, FT__READ | FT__WRITE);
        ft__pass_int(&l, count);
        ft__pass_float(&l, o->optimizer == FT_SGD ? rate : rate / update->correction1);
        if (o->optimizer != FT_SGD) ft__pass_float(&l, decoupled ? 1 - rate * decay : 1);
        ft__pass_float(&l, decoupled ? 0 : decay);
        ft__pass_float(&l, update->gradient_scale);
        ft__pass_float(&l, o->optimizer == FT_SGD ? o->momentum : o->beta1);
        if (o->optimizer == FT_SGD) ft__pass_int(&l, o->nesterov);
        else {
            ft__pass_float(&l, o->beta2);
            ft__pass_float(&l, o->eps);
            ft__pass_float(&l, update->correction2);
        }
        ft__go(&l, count);
    }
}
#endif

/* Refuses gradients that are not finite, so that the weights stay as good as they were. */
static ft_status ft__optimizer_step(ft_model *m, float learning_rate)
{
    ft__context *c = &m->context;
    ft__optimizer *o = m->optimizer;
    ft__update_job job;
    double norm;
    if (ft__optimizer_prepare(m) != FT_OK) return c->status;
#ifdef FINETUNE_OPENCL
    norm = c->device ? ft__device_norm(m) : ft__gradient_norm(m);
    if (!ft__ok(c)) return c->status;
#else
    norm = ft__gradient_norm(m);
#endif
    if (!(norm <= 3e38))
        return ft__fail(c, FT_NOT_FINITE, "step %llu: the gradients are not finite; the weights"
                        " are left as they were (a smaller learning rate than %g, or clip_norm,"
                        " may help)", (unsigned long long)m->step, (double)learning_rate);
    memset(&job, 0, sizeof job);
    job.m = m;
    o->updates += 1;
    job.u.optimizer = o;
    job.u.gradient_scale = 1;
    if (o->options.clip_norm > 0 && (double)o->options.clip_norm / (norm + 1e-6) < 1)
        job.u.gradient_scale = (float)((double)o->options.clip_norm / (norm + 1e-6));
    job.u.correction1 = (float)(1 - ft__power((double)o->options.beta1, o->updates));
    job.u.correction2 = (float)sqrt(1 - ft__power((double)o->options.beta2, o->updates));
    job.u.learning_rate = learning_rate;
    job.u.weight_decay = o->options.weight_decay;
#ifdef FINETUNE_OPENCL
    if (c->device) ft__device_update(m, &job.u);
    else
#endif
    ft__parallel(c, o->part_count, ft__update_of_part, &job);
    m->trained_version += 1;
    return c->status;
}

/* cos(pi * x) for x in [0, 1]: the Taylor series of sin about the middle, to double precision;
   libm's cosine would make the bits of a training run depend on the system's library. */
static double ft__cos_pi(double x)
{
    double y = (0.5 - x) * 3.14159265358979323846, term = y, sum = y;
    int i;
    for (i = 1; i < 14; ++i) {
        term *= -y * y / (2.0 * i * (2.0 * i + 1.0));
        sum += term;
    }
    return sum;
}

static double ft__cosine_between(double from, double to, double share)
{
    return to + (from - to) * 0.5 * (1 + ft__cos_pi(share));
}

/* The factor on the learning rate at `step` (from 0) of `steps`. Warm-up rises linearly over its
   steps, as (step + 1) / warmup, before the schedule proper begins. One-cycle is Smith and Topin
   2018 with PyTorch's defaults: 30 % up from 1/25, then down to 1/25/10^4. */
static double ft__schedule(ft_schedule schedule, int step, int steps, int step_size, double gamma,
                           int warmup)
{
    double peak, end;
    if (step < warmup) return (double)(step + 1) / warmup;
    step -= warmup;
    steps -= warmup;
    if (steps < 1) steps = 1;
    switch (schedule) {
    case FT_STEP:
        return ft__power(gamma, (uint64_t)(step / (step_size < 1 ? 1 : step_size)));
    case FT_COSINE:
        return ft__cosine_between(1, 0, step < steps ? (double)step / steps : 1);
    case FT_ONE_CYCLE:
        peak = 0.3 * steps - 1;
        end = steps - 1;
        if (step <= peak) return ft__cosine_between(1.0 / 25, 1, peak > 0 ? step / peak : 1);
        if (step >= end) return 1.0 / 25 / 1e4;
        return ft__cosine_between(1, 1.0 / 25 / 1e4, (step - peak) / (end - peak));
    default:
        return 1;
    }
}

/* =============================================================================================
   [SECTION] 12.1 safetensors
   Eight bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets},
   __metadata__: {key: text}}, then the data. Every number is checked before it is used. The ft_file
   made here serves PyTorch's files too: they fill in the same list of tensors.
   ============================================================================================= */
struct ft_file {
    ft__context *context;
    char *path;                 /* for messages */
    const unsigned char *bytes; /* of the whole file */
    uint64_t size;
    unsigned char *owned;       /* the same, when it was read; NULL when mapped or the caller's */
    void *mapped;               /* the handle of a mapped file; else NULL */
    ft__json *json;             /* safetensors: names and metadata lie here */
    ft_tensor_info *tensors;
    int count, capacity;
    char **names;               /* PyTorch: as many as tensors, owned */
};

static ft_tensor_info *ft__file_add(ft_file *file)
{
    ft_tensor_info *grown;
    int capacity = file->capacity ? 2 * file->capacity : 64;
    if (file->count == file->capacity) {
        grown = (ft_tensor_info *)ft__grow(file->context, file->tensors, (size_t)file->count,
                                           (size_t)capacity, sizeof *grown);
        if (!grown) return NULL;
        file->tensors = grown;
        file->capacity = capacity;
    }
    return &file->tensors[file->count++];
}

static uint64_t ft__little_endian(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    int i;
    for (i = count - 1; i >= 0; --i) value = value << 8 | bytes[i];
    return value;
}

static void ft__row_major(ft_tensor_info *info)
{
    int64_t stride = 1;
    int d;
    for (d = info->shape.rank - 1; d >= 0; --d) {
        info->stride[d] = stride;
        stride *= info->shape.size[d];
    }
}

static int ft__type_named(const char *name)
{
    int t;
    for (t = 0; name && t < FT_TYPE_COUNT; ++t)
        if (strcmp(name, ft__type_names[t]) == 0) return t;
    return -1;
}

/* One entry of the header; `data` is where the data begins in the file. */
static ft_status ft__safetensors_entry(ft_file *file, int entry, uint64_t data)
{
    const ft__json *j = file->json;
    const char *name = j->values[entry].key;
    int type = ft__type_named(ft__json_string(j, ft__json_member(j, entry, "dtype")));
    int shape = ft__json_member(j, entry, "shape"), d;
    int offsets = ft__json_member(j, entry, "data_offsets");
    int64_t begin = -1, end = -1, size = 0;
    size_t elements = 1;
    ft_tensor_info *info = ft__file_add(file);
    if (!info) return file->context->status;
    memset(info, 0, sizeof *info);
    info->name = name;
    if (type < 0)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: an unknown dtype", file->path,
                        name);
    info->type = (ft_type)type;
    info->shape.rank = ft__json_count(j, shape);
    if (!ft__json_at(j, shape, 'a') || info->shape.rank > FINETUNE_MAX_RANK)
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: %d dimensions, at most %d can"
                        " be read", file->path, name, info->shape.rank, FINETUNE_MAX_RANK);
    for (d = 0; d < info->shape.rank; ++d) {
        if (!ft__json_int(j, ft__json_element(j, shape, d), &size) || size < 0 || size > INT_MAX
            || !ft__multiply(elements, (size_t)size, &elements) || elements > SIZE_MAX / 16)
            return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: a wrong shape",
                            file->path, name);
        info->shape.size[d] = (int)size;
    }
    ft__json_int(j, ft__json_element(j, offsets, 0), &begin);
    ft__json_int(j, ft__json_element(j, offsets, 1), &end);
    if (begin < 0 || end < begin || (uint64_t)end > file->size - data
        || (uint64_t)(end - begin) != (uint64_t)elements * (uint64_t)ft__type_bytes[type])
        return ft__fail(file->context, FT_FORMAT, "%s: tensor %.200s: its bytes %lld to %lld do not"
                        " fit its shape or the file's %llu bytes", file->path, name,
                        (long long)begin, (long long)end, (unsigned long long)file->size);
    info->offset = data + (uint64_t)begin;
    info->bytes = (uint64_t)(end - begin);
    ft__row_major(info);
    return FT_OK;
}

static ft_status ft__safetensors_read(ft_file *file)
{
    ft__context *c = file->context;
    uint64_t header;
    size_t fault;
    int entry;
    if (file->size < 8) return ft__fail(c, FT_FORMAT, "%s: only %llu bytes: neither safetensors nor"
                                        " PyTorch", file->path, (unsigned long long)file->size);
    header = ft__little_endian(file->bytes, 8);
    if (header > file->size - 8 || file->size < 10 || file->bytes[8] != '{')
        return ft__fail(c, FT_FORMAT, "%s: neither safetensors (a header of %llu bytes does not fit"
                        " its %llu) nor PyTorch's zip", file->path, (unsigned long long)header,
                        (unsigned long long)file->size);
    file->json = ft__json_parse_at(c, (const char *)file->bytes + 8, (size_t)header, &fault);
    if (!file->json)
        return ft__fail(c, FT_FORMAT, "%s: the header is not JSON at offset %zu", file->path,
                        fault + 8);
    if (!ft__json_at(file->json, 0, 'o'))
        return ft__fail(c, FT_FORMAT, "%s: the header is no JSON object", file->path);
    for (entry = 1; entry < file->json->count; entry = file->json->values[entry].next)
        if (strcmp(file->json->values[entry].key, "__metadata__") != 0
            && ft__safetensors_entry(file, entry, header + 8) != FT_OK) break;
    return c->status;
}

/* ---- Numbers of other types ---- */

/* IEEE half precision: subnormals are multiples of 2^-24. */
static float ft__half_to_float(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;
    float small;
    if (exponent == 31) return ft__from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent) return ft__from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    small = (float)fraction * (1.0f / 16777216.0f);
    return sign ? -small : small;
}

/* Rounds to nearest, ties to even, as both conversions do. */
static uint32_t ft__float_to_half(float value)
{
    uint32_t bits = ft__to_bits(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t shift, fraction, rest, half;
    if (size > 0x7f800000u) return sign | 0x7e00u;
    if (size >= 0x47800000u) return sign | 0x7c00u;     /* 65536 and more */
    if (size < 0x33000000u) return sign;                /* below half of the smallest */
    fraction = (size & 0x7fffffu) | 0x800000u;
    shift = size < 0x38800000u ? 126u - (size >> 23) : 13u;
    half = fraction >> shift;
    rest = fraction & ((1u << shift) - 1u);
    if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1u))) half += 1;
    return size < 0x38800000u ? sign | half : sign | (half + (((size >> 23) - 113u) << 10));
}

static uint32_t ft__float_to_bfloat(float value)
{
    uint32_t bits = ft__to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 64u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static float ft__read_element(const unsigned char *at, ft_type type)
{
    uint64_t bits = ft__little_endian(at, ft__type_bytes[type]);
    int64_t whole = (int64_t)bits;
    double number;
    switch (type) {
    case FT_F32: return ft__from_bits((uint32_t)bits);
    case FT_F16: return ft__half_to_float((uint32_t)bits);
    case FT_BF16: return ft__from_bits((uint32_t)bits << 16);
    case FT_F64:
        memcpy(&number, &bits, sizeof number);
        return (float)number;
    case FT_I64: return (float)whole;
    case FT_I32: return (float)(bits < 0x80000000u ? whole : whole - 0x100000000);
    case FT_I16: return (float)(bits < 0x8000u ? whole : whole - 0x10000);
    case FT_I8: return (float)(bits < 0x80u ? whole : whole - 0x100);
    default: return (float)whole;
    }
}

/* ---- Writing ---- */

typedef struct ft__write_tensor {
    const char *name;
    ft_type type;           /* F32, F16, BF16: from float32; others: the bytes as they are */
    ft_shape shape;
    const void *data;
} ft__write_tensor;

static uint64_t ft__written_bytes(const ft__write_tensor *t)
{
    return (uint64_t)ft__shape_count(&t->shape) * (uint64_t)ft__type_bytes[t->type];
}

/* The header, padded with spaces so that the data begins at a multiple of 8. */
static void ft__safetensors_header(ft__text *text, const ft__write_tensor *tensors, int count,
                                   const char *const *pairs, int pair_count)
{
    uint64_t offset = 0, end;
    int i, d;
    ft__text_add(text, "{\"__metadata__\":{\"format\":\"pt\"");
    for (i = 0; i < pair_count; ++i) {
        ft__text_add(text, ",");
        ft__json_add_text(text, pairs[2 * i]);
        ft__text_add(text, ":");
        ft__json_add_text(text, pairs[2 * i + 1]);
    }
    ft__text_add(text, "}");
    for (i = 0; i < count; ++i) {
        ft__text_add(text, ",");
        ft__json_add_text(text, tensors[i].name);
        ft__text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", ft__type_names[tensors[i].type]);
        for (d = 0; d < tensors[i].shape.rank; ++d)
            ft__text_add(text, "%s%d", d ? "," : "", tensors[i].shape.size[d]);
        end = offset + ft__written_bytes(&tensors[i]);
        ft__text_add(text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                     (unsigned long long)end);
        offset = end;
    }
    ft__text_add(text, "}");
    while (ft__ok(text->context) && text->count % 8) ft__text_add(text, " ");
}

static bool ft__write_bytes(ft__context *c, void *file, const void *bytes, size_t count)
{
    return c->desc.files.write(c->desc.files.user, file, bytes, count) == count;
}

/* In pieces, so that converting needs no memory of its own; little-endian on any machine. */
static bool ft__write_tensor_data(ft__context *c, void *file, const ft__write_tensor *t)
{
    unsigned char piece[8192];
    const float *from = (const float *)t->data;
    size_t count = ft__shape_count(&t->shape), i, used = 0;
    int b, bytes = ft__type_bytes[t->type];
    if (t->type != FT_F32 && t->type != FT_F16 && t->type != FT_BF16)
        return ft__write_bytes(c, file, t->data, count * (size_t)bytes);
    for (i = 0; i < count; ++i) {
        uint32_t bits = t->type == FT_F32 ? ft__to_bits(from[i])
            : t->type == FT_F16 ? ft__float_to_half(from[i]) : ft__float_to_bfloat(from[i]);
        for (b = 0; b < bytes; ++b) piece[used++] = (unsigned char)(bits >> (8 * b));
        if (used == sizeof piece || i + 1 == count) {
            if (!ft__write_bytes(c, file, piece, used)) return false;
            used = 0;
        }
    }
    return true;
}

/* Writes beside the path, syncs, renames: a reader sees the old file or the new one, whole. */
static ft_status ft__safetensors_write(ft__context *c, const char *path,
                                       const ft__write_tensor *tensors, int count,
                                       const char *const *pairs, int pair_count)
{
    ft_files *files = &c->desc.files;
    unsigned char length[8];
    ft__text header, partial;
    void *file = NULL;
    bool written = false;
    int i;
    memset(&header, 0, sizeof header);
    memset(&partial, 0, sizeof partial);
    header.context = partial.context = c;
    ft__safetensors_header(&header, tensors, count, pairs, pair_count);
    ft__text_add_bytes(&partial, path, strlen(path));
    ft__text_add(&partial, ".partial");
    if (ft__ok(c)) file = files->open(files->user, partial.letters, true);
    if (ft__ok(c) && !file) ft__fail(c, FT_IO, "%s: cannot be written", path);
    if (file) {
        for (i = 0; i < 8; ++i) length[i] = (unsigned char)((uint64_t)header.count >> (8 * i));
        written = ft__write_bytes(c, file, length, 8)
            && ft__write_bytes(c, file, header.letters, header.count);
        for (i = 0; written && i < count; ++i)
            written = ft__write_tensor_data(c, file, &tensors[i]);
        if (!files->close(files->user, file)) written = false;
        if (written) written = files->rename(files->user, partial.letters, path);
        if (!written) {
            files->remove(files->user, partial.letters);
            ft__fail(c, FT_IO, "%s: writing failed: is the disk full?", path);
        }
    }
    ft__release(c, partial.letters);
    ft__release(c, header.letters);
    return c->status;
}

/* =============================================================================================
   [SECTION] 12.2 PyTorch's zip files
   torch.save writes a zip archive, nothing compressed, with the bytes of each storage in an entry
   "NAME/data/KEY" and a pickle "NAME/data.pkl" that says which tensor lies where in which storage.
   A pickle is a program; here a small machine runs the few opcodes that torch.save uses, and
   "calls" only rebuild a tensor or make a dictionary. Every other call gives an opaque value,
   which is passed over: nothing is executed.
   ============================================================================================= */
#ifndef FINETUNE_NO_PYTORCH
typedef struct ft__zip_entry { const char *name; size_t length; uint64_t offset, size; }
    ft__zip_entry;

typedef struct ft__zip { ft_file *file; ft__zip_entry *entries; int count; } ft__zip;

static ft_status ft__zip_fault(ft_file *file, const char *what, uint64_t offset)
{
    return ft__fail(file->context, FT_FORMAT, "%s: damaged PyTorch file: %s at offset %llu",
                    file->path, what, (unsigned long long)offset);
}

static uint64_t ft__zip_number(const ft_file *file, uint64_t offset, int bytes)
{
    return ft__little_endian(file->bytes + offset, bytes);
}

static bool ft__zip_has(const ft_file *file, uint64_t offset, uint64_t bytes)
{
    return offset <= file->size && bytes <= file->size - offset;
}

/* Where the central directory begins and how many entries it has; 64-bit values where the short
   ones are full. */
static bool ft__zip_directory(const ft_file *file, uint64_t *begin, uint64_t *count)
{
    uint64_t end = file->size < 22 ? 0 : file->size - 22, back, far;
    for (back = 0; back <= end && back < 65536; ++back)
        if (ft__zip_number(file, end - back, 4) == 0x06054b50) break;
    if (file->size < 22 || back > end || back == 65536) return false;
    end -= back;
    *count = ft__zip_number(file, end + 10, 2);
    *begin = ft__zip_number(file, end + 16, 4);
    if (end < 20 || ft__zip_number(file, end - 20, 4) != 0x07064b50) return true;
    far = ft__zip_number(file, end - 12, 8);
    if (!ft__zip_has(file, far, 56) || ft__zip_number(file, far, 4) != 0x06064b50) return false;
    *count = ft__zip_number(file, far + 32, 8);
    *begin = ft__zip_number(file, far + 48, 8);
    return true;
}

/* Sizes and offset that did not fit into 32 bits stand, in this order, in the extra field 1. */
static bool ft__zip_far(const ft_file *file, uint64_t at, uint64_t bytes, uint64_t *values[3])
{
    uint64_t end = at + bytes;
    int i;
    while (end - at >= 4) {
        uint64_t kind = ft__zip_number(file, at, 2), size = ft__zip_number(file, at + 2, 2);
        at += 4;
        if (size > end - at) return false;
        for (i = 0; kind == 1 && i < 3; ++i) {
            if (*values[i] != 0xffffffffu) continue;
            if (size < 8) return false;
            *values[i] = ft__zip_number(file, at, 8);
            at += 8;
            size -= 8;
        }
        at += size;
    }
    return true;
}

/* One entry of the directory at *at, which moves behind it. */
static ft_status ft__zip_read_entry(ft__zip *zip, uint64_t *at)
{
    ft_file *file = zip->file;
    ft__zip_entry *entry = &zip->entries[zip->count];
    uint64_t packed, name, extra, comment, local, *far[3];
    if (!ft__zip_has(file, *at, 46) || ft__zip_number(file, *at, 4) != 0x02014b50)
        return ft__zip_fault(file, "no directory entry", *at);
    if (ft__zip_number(file, *at + 10, 2) != 0)
        return ft__fail(file->context, FT_UNSUPPORTED, "%s: a compressed entry at offset %llu;"
                        " torch.save writes none", file->path, (unsigned long long)*at);
    packed = ft__zip_number(file, *at + 20, 4);
    entry->size = ft__zip_number(file, *at + 24, 4);
    local = ft__zip_number(file, *at + 42, 4);
    name = ft__zip_number(file, *at + 28, 2);
    extra = ft__zip_number(file, *at + 30, 2);
    comment = ft__zip_number(file, *at + 32, 2);
    far[0] = &entry->size;
    far[1] = &packed;
    far[2] = &local;
    if (!ft__zip_has(file, *at + 46, name + extra + comment)
        || !ft__zip_far(file, *at + 46 + name, extra, far))
        return ft__zip_fault(file, "a directory entry that does not fit", *at);
    if (!ft__zip_has(file, local, 30) || ft__zip_number(file, local, 4) != 0x04034b50)
        return ft__zip_fault(file, "no local header", local);
    entry->offset = local + 30 + ft__zip_number(file, local + 26, 2)
        + ft__zip_number(file, local + 28, 2);
    if (!ft__zip_has(file, entry->offset, entry->size))
        return ft__zip_fault(file, "an entry longer than the file", local);
    entry->name = (const char *)file->bytes + *at + 46;
    entry->length = (size_t)name;
    zip->count += 1;
    *at += 46 + name + extra + comment;
    return FT_OK;
}

/* The entry whose name, behind the archive's own folder, is this. */
static const ft__zip_entry *ft__zip_find(const ft__zip *zip, const char *name, size_t length)
{
    int i;
    for (i = 0; i < zip->count; ++i) {
        const ft__zip_entry *e = &zip->entries[i];
        if (e->length > length && e->name[e->length - length - 1] == '/'
            && memcmp(e->name + e->length - length, name, length) == 0
            && !memchr(e->name, '/', e->length - length - 1)) return e;
    }
    return NULL;
}

/* ---- The pickle machine ---- */

typedef enum ft__pickle_kind {
    FT__P_OPAQUE, FT__P_MARK, FT__P_INT, FT__P_TEXT, FT__P_TUPLE, FT__P_DICT, FT__P_CALLABLE,
    FT__P_STORAGE, FT__P_TENSOR
} ft__pickle_kind;

typedef enum ft__callable { FT__CALL_DICT, FT__CALL_TENSOR, FT__CALL_PARAMETER, FT__CALL_STORAGE }
    ft__callable;

typedef struct ft__pickle_value {
    ft__pickle_kind kind;
    int64_t number;         /* of an int; a callable's ft__callable; a storage's first byte */
    int type;               /* of a storage or tensor: ft_type, or -1 */
    const char *text;       /* of a text */
    size_t length;          /* of a text; bytes of a storage */
    int first, last, count; /* of a tuple, list or dict: items; a dict's alternate key, value */
    int tensor;             /* of a tensor: its index among the tensors that were rebuilt */
} ft__pickle_value;

typedef struct ft__pickle_item { int value, next; } ft__pickle_item;

/* A list of fixed-size things that grows. */
typedef struct ft__pile { void *at; size_t count, capacity, size; } ft__pile;

typedef struct ft__pickle {
    ft_file *file;
    ft__context *context;
    const ft__zip *zip;
    uint64_t at, end;       /* in the file */
    ft__pile values, items, stack, memo, tensors;
} ft__pickle;

static void *ft__pile_add(ft__context *c, ft__pile *pile)
{
    if (pile->count == pile->capacity) {
        size_t capacity = pile->capacity ? 2 * pile->capacity : 256;
        void *grown = ft__grow(c, pile->at, pile->count, capacity, pile->size);
        if (!grown) return NULL;
        pile->at = grown;
        pile->capacity = capacity;
    }
    return (char *)pile->at + pile->size * pile->count++;
}

static ft__pickle_value *ft__pickle_at(const ft__pickle *p, int value)
{
    return (ft__pickle_value *)p->values.at + value;
}

static ft_status ft__pickle_fault(ft__pickle *p, const char *what)
{
    return ft__zip_fault(p->file, what, p->at);
}

/* Pushes a new value; NULL with an error when there is no memory. */
static ft__pickle_value *ft__pickle_push(ft__pickle *p, ft__pickle_kind kind)
{
    ft__pickle_value *value = (ft__pickle_value *)ft__pile_add(p->context, &p->values);
    int *top = (int *)ft__pile_add(p->context, &p->stack);
    if (!value || !top) return NULL;
    memset(value, 0, sizeof *value);
    value->kind = kind;
    value->first = value->last = -1;
    *top = (int)p->values.count - 1;
    return value;
}

static int ft__pickle_pop(ft__pickle *p)
{
    if (p->stack.count == 0) {
        ft__pickle_fault(p, "a pickle that takes from an empty stack");
        return -1;
    }
    return ((int *)p->stack.at)[--p->stack.count];
}

static void ft__pickle_append(ft__pickle *p, int container, int value)
{
    ft__pickle_item *item = (ft__pickle_item *)ft__pile_add(p->context, &p->items);
    ft__pickle_value *v = ft__pickle_at(p, container);
    int index = (int)p->items.count - 1;
    if (!item) return;
    item->value = value;
    item->next = -1;
    if (v->last >= 0) ((ft__pickle_item *)p->items.at)[v->last].next = index;
    else v->first = index;
    v->last = index;
    v->count += 1;
}

/* The value of item `index` of a container; -1: there is none. */
static int ft__pickle_item_of(const ft__pickle *p, int container, int index)
{
    int item = ft__pickle_at(p, container)->first;
    while (item >= 0 && index-- > 0) item = ((ft__pickle_item *)p->items.at)[item].next;
    return item < 0 ? -1 : ((ft__pickle_item *)p->items.at)[item].value;
}

/* Everything above the last mark, in order, appended to `container`; the mark goes too. */
static void ft__pickle_from_mark(ft__pickle *p, int container, size_t *bottom)
{
    const int *stack = (const int *)p->stack.at;
    size_t mark = p->stack.count, i;
    while (mark > 0 && ft__pickle_at(p, stack[mark - 1])->kind != FT__P_MARK) --mark;
    if (mark == 0) {
        ft__pickle_fault(p, "a pickle without a mark");
        return;
    }
    for (i = mark; container >= 0 && ft__ok(p->context) && i < p->stack.count; ++i)
        ft__pickle_append(p, container, stack[i]);
    p->stack.count = mark - 1;
    if (bottom) *bottom = mark - 1;
}

/* Makes a tuple or dict (lists are tuples here) of what lies above the mark. */
static void ft__pickle_collect(ft__pickle *p, ft__pickle_kind kind)
{
    ft__pickle_value *made = (ft__pickle_value *)ft__pile_add(p->context, &p->values);
    int index = (int)p->values.count - 1, *top;
    if (!made) return;
    memset(made, 0, sizeof *made);
    made->kind = kind;
    made->first = made->last = -1;
    ft__pickle_from_mark(p, index, NULL);
    top = (int *)ft__pile_add(p->context, &p->stack);
    if (top) *top = index;
}

/* Adds what lies above the mark (or the top `count` values) to the list or dict below. */
static void ft__pickle_extend(ft__pickle *p, int count)
{
    const int *stack = (const int *)p->stack.at;
    size_t mark = p->stack.count, i;
    int below;
    if (count > 0 && mark > (size_t)count) mark -= (size_t)count;
    else
        while (mark > 0 && ft__pickle_at(p, stack[mark - 1])->kind != FT__P_MARK) --mark;
    below = (int)mark - (count > 0 ? 1 : 2);
    if (below < 0) {
        ft__pickle_fault(p, "a pickle that adds to nothing");
        return;
    }
    for (i = mark; ft__ok(p->context) && i < p->stack.count; ++i)
        ft__pickle_append(p, stack[below], stack[i]);
    p->stack.count = (size_t)below + 1;
}

static void ft__pickle_remember(ft__pickle *p, uint64_t index)
{
    int *memo;
    if (index > 1u << 24 || index > p->file->size) {
        ft__pickle_fault(p, "a pickle that remembers too much");
        return;
    }
    while (ft__ok(p->context) && p->memo.count <= index) {
        memo = (int *)ft__pile_add(p->context, &p->memo);
        if (memo) *memo = -1;
    }
    if (!ft__ok(p->context)) return;
    if (p->stack.count == 0) ft__pickle_fault(p, "a pickle that remembers nothing");
    else ((int *)p->memo.at)[index] = ((int *)p->stack.at)[p->stack.count - 1];
}

static void ft__pickle_recall(ft__pickle *p, uint64_t index)
{
    int *top;
    if (index >= p->memo.count || ((int *)p->memo.at)[index] < 0) {
        ft__pickle_fault(p, "a pickle that recalls what it never had");
        return;
    }
    top = (int *)ft__pile_add(p->context, &p->stack);
    if (top) *top = ((int *)p->memo.at)[index];
}

static const struct { const char *name; int type; } ft__storages[] = {
    {"FloatStorage", FT_F32}, {"HalfStorage", FT_F16}, {"BFloat16Storage", FT_BF16},
    {"DoubleStorage", FT_F64}, {"LongStorage", FT_I64}, {"IntStorage", FT_I32},
    {"ShortStorage", FT_I16}, {"CharStorage", FT_I8}, {"ByteStorage", FT_U8},
    {"BoolStorage", FT_BOOL}};

static bool ft__text_is(const char *text, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(text, wanted, length) == 0;
}

/* A global by module and name: known ones become callables, all others opaque. */
static void ft__pickle_global(ft__pickle *p, const char *module, size_t module_length,
                              const char *name, size_t length)
{
    ft__pickle_value *v = ft__pickle_push(p, FT__P_OPAQUE);
    bool utils = ft__text_is(module, module_length, "torch._utils");
    size_t s;
    if (!v) return;
    v->type = -1;
    if (ft__text_is(module, module_length, "collections") && ft__text_is(name, length,
                                                                         "OrderedDict"))
        v->number = FT__CALL_DICT;
    else if (utils && ft__text_is(name, length, "_rebuild_tensor_v2")) v->number = FT__CALL_TENSOR;
    else if (utils && ft__text_is(name, length, "_rebuild_parameter"))
        v->number = FT__CALL_PARAMETER;
    else {
        if (!ft__text_is(module, module_length, "torch")) return;
        for (s = 0; s < sizeof ft__storages / sizeof ft__storages[0]; ++s)
            if (ft__text_is(name, length, ft__storages[s].name)) v->type = ft__storages[s].type;
        if (v->type < 0) return;
        v->number = FT__CALL_STORAGE;
    }
    v->kind = FT__P_CALLABLE;
}

/* ("storage", its class, key, place, count) stands for the bytes of an entry. */
static void ft__pickle_storage(ft__pickle *p)
{
    int tuple = ft__pickle_pop(p), kind, key;
    const ft__zip_entry *entry = NULL;
    char name[256];
    ft__pickle_value *v, *k, *t;
    if (tuple < 0) return;
    if (ft__pickle_at(p, tuple)->kind != FT__P_TUPLE || ft__pickle_at(p, tuple)->count != 5) {
        ft__pickle_fault(p, "an unknown kind of stored thing");
        return;
    }
    kind = ft__pickle_item_of(p, tuple, 1);
    key = ft__pickle_item_of(p, tuple, 2);
    if (!(v = ft__pickle_push(p, FT__P_STORAGE))) return;
    t = ft__pickle_at(p, kind);
    k = ft__pickle_at(p, key);
    v->type = t->kind == FT__P_CALLABLE && t->number == FT__CALL_STORAGE ? t->type : -1;
    if (k->kind == FT__P_TEXT && k->length < 200) {
        int length = snprintf(name, sizeof name, "data/%.*s", (int)k->length, k->text);
        entry = ft__zip_find(p->zip, name, (size_t)length);
    }
    if (!entry) {
        ft__pickle_fault(p, "a tensor whose data is not in the file");
        return;
    }
    v->number = (int64_t)entry->offset;
    v->length = (size_t)entry->size;
}

static bool ft__pickle_sizes(const ft__pickle *p, int tuple, int64_t *to, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        const ft__pickle_value *v = ft__pickle_at(p, ft__pickle_item_of(p, tuple, i));
        if (v->kind != FT__P_INT || v->number < 0) return false;
        to[i] = v->number;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, ...): false when that does not fit. */
static bool ft__pickle_tensor(ft__pickle *p, int arguments, ft_tensor_info *info)
{
    const ft__pickle_value *storage, *offset, *size, *stride;
    int64_t sizes[FINETUNE_MAX_RANK], strides[FINETUNE_MAX_RANK], last;
    size_t elements = 1, width;
    int d;
    if (ft__pickle_at(p, arguments)->count < 4) return false;
    storage = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 0));
    offset = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 1));
    size = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 2));
    stride = ft__pickle_at(p, ft__pickle_item_of(p, arguments, 3));
    if (storage->kind != FT__P_STORAGE || storage->type < 0 || offset->kind != FT__P_INT
        || offset->number < 0 || size->kind != FT__P_TUPLE || stride->kind != FT__P_TUPLE
        || size->count != stride->count || size->count > FINETUNE_MAX_RANK) return false;
    memset(info, 0, sizeof *info);
    info->shape.rank = size->count;
    if (!ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 2), sizes, size->count)
        || !ft__pickle_sizes(p, ft__pickle_item_of(p, arguments, 3), strides, size->count))
        return false;
    width = (size_t)ft__type_bytes[storage->type];
    last = offset->number;
    for (d = 0; d < size->count; ++d) {
        if (sizes[d] > INT_MAX || !ft__multiply(elements, (size_t)sizes[d], &elements))
            return false;
        info->shape.size[d] = (int)sizes[d];
        info->stride[d] = strides[d];
    }
    if (elements > SIZE_MAX / 16 || last > (int64_t)storage->length) return false;
    for (d = 0; elements > 0 && d < size->count; ++d) {
        int64_t room = (int64_t)storage->length;
        if (sizes[d] == 1 || strides[d] == 0) continue;
        if (strides[d] > room || sizes[d] - 1 > room / strides[d]) return false;
        last += (sizes[d] - 1) * strides[d];
    }
    if (elements > 0 && (uint64_t)last >= storage->length / width) return false;
    info->type = (ft_type)storage->type;
    info->offset = (uint64_t)storage->number + (uint64_t)offset->number * width;
    info->bytes = (uint64_t)elements * width;
    return true;
}

static void ft__pickle_call(ft__pickle *p)
{
    int arguments = ft__pickle_pop(p), function = arguments < 0 ? -1 : ft__pickle_pop(p);
    ft__pickle_value *v, f;
    ft_tensor_info info, *added;
    if (function < 0) return;
    f = *ft__pickle_at(p, function);
    if (f.kind == FT__P_CALLABLE && f.number == FT__CALL_PARAMETER
        && ft__pickle_at(p, arguments)->count > 0) { /* the tensor that it wraps */
        int inner = ft__pickle_item_of(p, arguments, 0), *top;
        top = (int *)ft__pile_add(p->context, &p->stack);
        if (top) *top = inner;
        return;
    }
    v = ft__pickle_push(p, FT__P_OPAQUE);
    if (!v || f.kind != FT__P_CALLABLE) return;
    if (f.number == FT__CALL_DICT) v->kind = FT__P_DICT;
    if (f.number != FT__CALL_TENSOR) return;
    if (!ft__pickle_tensor(p, arguments, &info)) {
        ft__pickle_fault(p, "a tensor that does not fit its data");
        return;
    }
    added = (ft_tensor_info *)ft__pile_add(p->context, &p->tensors);
    if (!added) return;
    *added = info;
    v->kind = FT__P_TENSOR;
    v->tensor = (int)p->tensors.count - 1;
}

static uint64_t ft__pickle_read(ft__pickle *p, int bytes)
{
    uint64_t value;
    if (p->end - p->at < (uint64_t)bytes) {
        ft__pickle_fault(p, "a pickle that ends early");
        p->at = p->end;
        return 0;
    }
    value = ft__zip_number(p->file, p->at, bytes);
    p->at += (uint64_t)bytes;
    return value;
}

static void ft__pickle_text(ft__pickle *p, int length_bytes)
{
    uint64_t length = ft__pickle_read(p, length_bytes);
    ft__pickle_value *v;
    if (length > p->end - p->at) {
        ft__pickle_fault(p, "a text longer than the pickle");
        return;
    }
    if (!(v = ft__pickle_push(p, FT__P_TEXT))) return;
    v->text = (const char *)p->file->bytes + p->at;
    v->length = (size_t)length;
    p->at += length;
}

static void ft__pickle_int(ft__pickle *p, int bytes, bool is_signed)
{
    uint64_t bits = ft__pickle_read(p, bytes);
    ft__pickle_value *v = ft__pickle_push(p, FT__P_INT);
    if (is_signed && bytes > 0 && bytes < 8 && (bits >> (8 * bytes - 1) & 1))
        bits |= ~(uint64_t)0 << (8 * bytes);
    if (v) v->number = (int64_t)bits;
}

/* "module\nname\n" */
static void ft__pickle_global_lines(ft__pickle *p)
{
    const char *line[2];
    size_t length[2];
    int i;
    for (i = 0; i < 2; ++i) {
        const unsigned char *start = p->file->bytes + p->at;
        const void *end = memchr(start, '\n', (size_t)(p->end - p->at));
        if (!end) {
            ft__pickle_fault(p, "a name without an end");
            return;
        }
        line[i] = (const char *)start;
        length[i] = (size_t)((const unsigned char *)end - start);
        p->at += length[i] + 1;
    }
    ft__pickle_global(p, line[0], length[0], line[1], length[1]);
}

static void ft__pickle_stack_global(ft__pickle *p)
{
    int name = ft__pickle_pop(p), module = name < 0 ? -1 : ft__pickle_pop(p);
    ft__pickle_value n, m;
    if (module < 0) return;
    n = *ft__pickle_at(p, name);
    m = *ft__pickle_at(p, module);
    if (n.kind != FT__P_TEXT || m.kind != FT__P_TEXT) ft__pickle_fault(p, "a nameless global");
    else ft__pickle_global(p, m.text, m.length, n.text, n.length);
}

static void ft__pickle_small_tuple(ft__pickle *p, int count)
{
    int items[3], i;
    for (i = count - 1; i >= 0; --i) items[i] = ft__pickle_pop(p);
    if (!ft__ok(p->context) || !ft__pickle_push(p, FT__P_TUPLE)) return;
    for (i = 0; i < count; ++i) ft__pickle_append(p, (int)p->values.count - 1, items[i]);
}

/* A long integer of so many bytes; those that do not fit into 64 bits are no sizes: opaque. */
static void ft__pickle_long(ft__pickle *p)
{
    uint64_t bytes = ft__pickle_read(p, 1);
    if (bytes <= 8) ft__pickle_int(p, (int)bytes, true);
    else if (bytes > p->end - p->at) ft__pickle_fault(p, "a number longer than the pickle");
    else {
        p->at += bytes;
        ft__pickle_push(p, FT__P_OPAQUE);
    }
}

/* One opcode; false at STOP or on an error. */
static bool ft__pickle_step(ft__pickle *p)
{
    unsigned opcode = (unsigned)ft__pickle_read(p, 1);
    switch (opcode) {
    case 0x80: ft__pickle_read(p, 1); break;                    /* PROTO */
    case 0x95: ft__pickle_read(p, 8); break;                    /* FRAME */
    case '(': ft__pickle_push(p, FT__P_MARK); break;
    case ')': case ']': case 0x8f: ft__pickle_push(p, FT__P_TUPLE); break; /* also list, set */
    case '}': ft__pickle_push(p, FT__P_DICT); break;
    case 't': case 'l': ft__pickle_collect(p, FT__P_TUPLE); break;
    case 'd': ft__pickle_collect(p, FT__P_DICT); break;
    case 0x85: case 0x86: case 0x87: ft__pickle_small_tuple(p, (int)opcode - 0x84); break;
    case 'a': ft__pickle_extend(p, 1); break;
    case 's': ft__pickle_extend(p, 2); break;
    case 'e': case 'u': case 0x90: ft__pickle_extend(p, 0); break;
    case 'X': case 'T': case 'B': ft__pickle_text(p, 4); break;
    case 0x8c: case 'U': case 'C': ft__pickle_text(p, 1); break;
    case 0x8d: case 0x8e: ft__pickle_text(p, 8); break;
    case 'q': ft__pickle_remember(p, ft__pickle_read(p, 1)); break;
    case 'r': ft__pickle_remember(p, ft__pickle_read(p, 4)); break;
    case 0x94: ft__pickle_remember(p, p->memo.count); break;
    case 'h': ft__pickle_recall(p, ft__pickle_read(p, 1)); break;
    case 'j': ft__pickle_recall(p, ft__pickle_read(p, 4)); break;
    case 'K': ft__pickle_int(p, 1, false); break;
    case 'M': ft__pickle_int(p, 2, false); break;
    case 'J': ft__pickle_int(p, 4, true); break;
    case 0x8a: ft__pickle_long(p); break;
    case 'G': ft__pickle_read(p, 8); ft__pickle_push(p, FT__P_OPAQUE); break;
    case 'N': case 0x88: case 0x89: ft__pickle_push(p, FT__P_OPAQUE); break;
    case 'c': ft__pickle_global_lines(p); break;
    case 0x93: ft__pickle_stack_global(p); break;
    case 'R': case 0x81: ft__pickle_call(p); break;
    case 'b': case '0': ft__pickle_pop(p); break;               /* an object's state is dropped */
    case '1': ft__pickle_from_mark(p, -1, NULL); break;
    case 'Q': ft__pickle_storage(p); break;
    case '.': return false;
    default: ft__pickle_fault(p, "an opcode that torch.save does not write");
    }
    return ft__ok(p->context);
}

/* ---- From the pickle's value to a list of tensors ---- */

static int ft__pickle_tensors_in(const ft__pickle *p, int dict)
{
    int item, count = 0;
    if (dict < 0 || ft__pickle_at(p, dict)->kind != FT__P_DICT) return 0;
    for (item = ft__pickle_at(p, dict)->first; item >= 0;
         item = ((ft__pickle_item *)p->items.at)[item].next) {
        const ft__pickle_item *i = (const ft__pickle_item *)p->items.at + item;
        if (ft__pickle_at(p, i->value)->kind == FT__P_TENSOR) count += 1;
    }
    return count;
}

/* The dict of tensors: the value itself, or, in a checkpoint, the one under a usual name, or the
   one with the most tensors. */
static int ft__pickle_state_dict(const ft__pickle *p, int root)
{
    static const char *const usual[] = {"state_dict", "model", "model_state_dict", "net",
                                        "weights", "params"};
    int best = root, most = ft__pickle_tensors_in(p, root), item;
    size_t u;
    if (most > 0 || ft__pickle_at(p, root)->kind != FT__P_DICT) return root;
    for (item = ft__pickle_at(p, root)->first; item >= 0;) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        const ft__pickle_value *name = ft__pickle_at(p, key->value);
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        for (u = 0; name->kind == FT__P_TEXT && u < sizeof usual / sizeof usual[0]; ++u)
            if (ft__text_is(name->text, name->length, usual[u])
                && ft__pickle_tensors_in(p, value->value) > 0) return value->value;
        if (ft__pickle_tensors_in(p, value->value) > most) {
            most = ft__pickle_tensors_in(p, value->value);
            best = value->value;
        }
        item = value->next;
    }
    return best;
}

static ft_status ft__pickle_list(ft__pickle *p, int dict)
{
    ft_file *file = p->file;
    int item, count = ft__pickle_tensors_in(p, dict);
    if (count == 0)
        return ft__fail(p->context, FT_FORMAT, "%s: holds no dictionary of tensors: save the"
                        " state_dict, not the module", file->path);
    file->names = (char **)ft__allocate(p->context, (size_t)count, sizeof *file->names);
    for (item = ft__pickle_at(p, dict)->first; file->names && item >= 0;) {
        const ft__pickle_item *key = (const ft__pickle_item *)p->items.at + item, *value;
        const ft__pickle_value *name = ft__pickle_at(p, key->value);
        ft_tensor_info *info;
        char text[512];
        if (key->next < 0) break;
        value = (const ft__pickle_item *)p->items.at + key->next;
        item = value->next;
        if (ft__pickle_at(p, value->value)->kind != FT__P_TENSOR) continue;
        if (name->kind != FT__P_TEXT || name->length >= sizeof text)
            return ft__pickle_fault(p, "a tensor without a usable name");
        snprintf(text, sizeof text, "%.*s", (int)name->length, name->text);
        info = ft__file_add(file);
        if (!info) break;
        *info = ((ft_tensor_info *)p->tensors.at)[ft__pickle_at(p, value->value)->tensor];
        info->name = file->names[file->count - 1] = ft__copy_text(p->context, text);
        if (!info->name) file->count -= 1;
    }
    return p->context->status;
}

/* torch.nn.DataParallel puts "module." before every name. */
static void ft__strip_module(ft_file *file)
{
    int i;
    for (i = 0; i < file->count; ++i)
        if (strncmp(file->tensors[i].name, "module.", 7) != 0) return;
    for (i = 0; i < file->count; ++i) file->tensors[i].name += 7;
}

static void ft__pickle_run(ft__pickle *p)
{
    ft__context *c = p->context;
    p->values.size = sizeof(ft__pickle_value);
    p->items.size = sizeof(ft__pickle_item);
    p->stack.size = p->memo.size = sizeof(int);
    p->tensors.size = sizeof(ft_tensor_info);
    while (ft__pickle_step(p)) {}
    if (ft__ok(c)) {
        int root = ft__pickle_pop(p);
        if (root >= 0) ft__pickle_list(p, ft__pickle_state_dict(p, root));
    }
    if (ft__ok(c)) ft__strip_module(p->file);
    ft__release(c, p->tensors.at);
    ft__release(c, p->memo.at);
    ft__release(c, p->stack.at);
    ft__release(c, p->items.at);
    ft__release(c, p->values.at);
}

static ft_status ft__pytorch_read(ft_file *file)
{
    ft__context *c = file->context;
    const ft__zip_entry *pickle, *order;
    uint64_t at = 0, count = 0, i;
    ft__pickle p;
    ft__zip zip;
    memset(&zip, 0, sizeof zip);
    memset(&p, 0, sizeof p);
    zip.file = file;
    if (!ft__zip_directory(file, &at, &count) || count > file->size / 46)
        return ft__zip_fault(file, "no zip directory", file->size);
    zip.entries = (ft__zip_entry *)ft__allocate(c, (size_t)count + 1, sizeof *zip.entries);
    for (i = 0; ft__ok(c) && i < count; ++i) ft__zip_read_entry(&zip, &at);
    pickle = ft__zip_find(&zip, "data.pkl", 8);
    order = ft__zip_find(&zip, "byteorder", 9);
    if (ft__ok(c) && !pickle)
        ft__fail(c, FT_FORMAT, "%s: a zip file, but not one of torch.save: it has no data.pkl",
                 file->path);
    if (ft__ok(c) && order && !ft__text_is((const char *)file->bytes + order->offset,
                                           (size_t)order->size, "little"))
        ft__fail(c, FT_UNSUPPORTED, "%s: written on a big-endian machine", file->path);
    if (ft__ok(c)) {
        p.file = file;
        p.context = c;
        p.zip = &zip;
        p.at = pickle->offset;
        p.end = pickle->offset + pickle->size;
        ft__pickle_run(&p);
    }
    ft__release(c, zip.entries);
    return c->status;
}
#else
static ft_status ft__pytorch_read(ft_file *file)
{
    return ft__fail(file->context, FT_UNSUPPORTED, "%s: a file of PyTorch's: the reader was"
                    " left out of this build (FINETUNE_NO_PYTORCH)", file->path);
}
#endif

/* =============================================================================================
   [SECTION] 12.3 Tensor files
   ============================================================================================= */

/* Gets the bytes: the caller's, mapped when asked for, or read into memory. */
static ft_status ft__file_bytes(ft_file *file, ft_weights_options options)
{
    ft__context *c = file->context;
    ft_files *files = &c->desc.files;
    size_t size = 0;
    int64_t whole;
    if (options.memory) {
        file->bytes = (const unsigned char *)options.memory;
        file->size = options.bytes;
        return c->status;
    }
    if (options.map && files->map) {
        file->mapped = files->open(files->user, file->path, false);
        whole = file->mapped ? files->size(files->user, file->mapped) : -1;
        if (whole > 0) {
            file->size = (uint64_t)whole;
            file->bytes = (const unsigned char *)files->map(files->user, file->mapped,
                                                            (size_t)whole);
        }
        if (file->bytes) return c->status;
        if (file->mapped) files->close(files->user, file->mapped);
        file->mapped = NULL; /* read it instead */
    }
    file->owned = ft__read_file(c, file->path, &size);
    file->bytes = file->owned;
    file->size = size;
    return c->status;
}

ft_file *ft_file_open(ft_model *m, const char *path, ft_weights_options options)
{
    ft__context *c = &m->context;
    ft_file *file;
    if (!ft__ok(c)) return NULL;
    file = (ft_file *)ft__allocate(c, 1, sizeof *file);
    if (!file) return NULL;
    file->context = c;
    file->path = ft__copy_text(c, path ? path : "(memory)");
    if (file->path) ft__file_bytes(file, options);
    if (ft__ok(c)) {
        if (file->size > 4 && memcmp(file->bytes, "PK\3\4", 4) == 0) ft__pytorch_read(file);
        else if (file->size > 4 && memcmp(file->bytes, "\x80\2\x8a\n", 4) == 0)
            ft__fail(c, FT_UNSUPPORTED, "%s: in the form that torch.save wrote before 1.6: load it"
                     " in PyTorch and save it again", file->path);
        else ft__safetensors_read(file);
    }
    if (ft__ok(c)) return file;
    ft_file_close(file);
    return NULL;
}

void ft_file_close(ft_file *file)
{
    ft__context *c;
    ft_files *files;
    int i;
    if (!file) return;
    c = file->context;
    files = &c->desc.files;
    for (i = file->count - 1; file->names && i >= 0; --i) ft__release(c, file->names[i]);
    ft__release(c, file->names);
    ft__release(c, file->tensors);
    ft__json_free(c, file->json);
    if (file->mapped) {
        files->unmap(files->user, file->bytes, (size_t)file->size);
        files->close(files->user, file->mapped);
    }
    ft__release(c, file->owned);
    ft__release(c, file->path);
    ft__release(c, file);
}

int ft_file_count(const ft_file *file) { return file->count; }

ft_tensor_info ft_file_tensor(const ft_file *file, int index)
{
    ft_tensor_info none;
    memset(&none, 0, sizeof none);
    return index >= 0 && index < file->count ? file->tensors[index] : none;
}

int ft_file_find(const ft_file *file, const char *name)
{
    int i;
    for (i = 0; i < file->count; ++i)
        if (strcmp(file->tensors[i].name, name) == 0) return i;
    return -1;
}

const char *ft_file_metadata(const ft_file *file, const char *key)
{
    if (!file->json) return NULL;
    return ft__json_string(file->json, ft__json_member(file->json,
                                                       ft__json_member(file->json, 0,
                                                                       "__metadata__"), key));
}

static ft_status ft__file_check(ft_file *file, int index, size_t want, size_t given,
                                const char *unit)
{
    ft__context *c = file->context;
    if (!ft__ok(c)) return c->status;
    if (index < 0 || index >= file->count)
        return ft__fail(c, FT_INVALID, "%s: has no tensor %d", file->path, index);
    if (want != given)
        return ft__fail(c, FT_SHAPE, "%s: tensor %.200s has %zu %s, not %zu", file->path,
                        file->tensors[index].name, want, unit, given);
    return FT_OK;
}

/* Where in the file element `i`, counted row by row, lies. */
static uint64_t ft__element_offset(const ft_tensor_info *t, size_t i)
{
    int64_t at = 0;
    int d;
    for (d = t->shape.rank - 1; d >= 0; --d) {
        at += (int64_t)(i % (size_t)t->shape.size[d]) * t->stride[d];
        i /= (size_t)t->shape.size[d];
    }
    return t->offset + (uint64_t)at * (uint64_t)ft__type_bytes[t->type];
}

/* Do the elements stand one behind the other? Only PyTorch's views do not. */
static bool ft__is_row_major(const ft_tensor_info *t)
{
    ft_tensor_info plain = *t;
    int d;
    ft__row_major(&plain);
    for (d = 0; d < t->shape.rank; ++d)
        if (t->shape.size[d] > 1 && t->stride[d] != plain.stride[d]) return false;
    return true;
}

static bool ft__host_is_little_endian(void)
{
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

ft_status ft_file_read_f32(ft_file *file, int index, float *to, size_t count)
{
    ft_tensor_info t = ft_file_tensor(file, index);
    bool plain = ft__is_row_major(&t);
    const unsigned char *from = file->bytes + t.offset;
    size_t i, bytes = (size_t)ft__type_bytes[t.type];
    if (ft__file_check(file, index, ft__shape_count(&t.shape), count, "numbers") != FT_OK)
        return file->context->status;
    if (plain && t.type == FT_F32 && ft__host_is_little_endian()) {
        memcpy(to, from, count * sizeof *to);
        return FT_OK;
    }
    for (i = 0; plain && i < count; ++i) to[i] = ft__read_element(from + i * bytes, t.type);
    for (i = 0; !plain && i < count; ++i)
        to[i] = ft__read_element(file->bytes + ft__element_offset(&t, i), t.type);
    return FT_OK;
}

ft_status ft_file_read(ft_file *file, int index, void *to, size_t bytes)
{
    ft_tensor_info t = ft_file_tensor(file, index);
    size_t size = (size_t)ft__type_bytes[t.type], count = ft__shape_count(&t.shape), i;
    if (ft__file_check(file, index, count * size, bytes, "bytes") != FT_OK)
        return file->context->status;
    for (i = 0; i < count; ++i)
        memcpy((unsigned char *)to + i * size, file->bytes + ft__element_offset(&t, i), size);
    return FT_OK;
}

/* =============================================================================================
   [SECTION] 12.4 Loading weights by name
   A weight is loaded when the file has a tensor of its name and shape. Everything else is listed:
   silence here is how half-loaded networks come about.
   ============================================================================================= */

/* "from=to,from=to" applied to the leading part of a file's name, the first rule that fits. */
static void ft__renamed(const char *rules, const char *name, char *to, size_t size)
{
    while (rules && *rules) {
        const char *equals = strchr(rules, '='), *end = strchr(rules, ',');
        if (!end) end = rules + strlen(rules);
        if (equals && equals < end && strncmp(name, rules, (size_t)(equals - rules)) == 0) {
            snprintf(to, size, "%.*s%s", (int)(end - equals - 1), equals + 1,
                     name + (equals - rules));
            return;
        }
        rules = *end ? end + 1 : end;
    }
    snprintf(to, size, "%s", name);
}

/* Collects up to so many offenders for one line of error. */
typedef struct ft__list { char text[640]; size_t used; int count; } ft__list;

static void ft__list_add(ft__list *list, const char *name, const char *detail)
{
    int wrote;
    list->count += 1;
    if (list->count > 8 || list->used > sizeof list->text - 160) return;
    wrote = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%.100s %.60s",
                     list->used ? ", " : "", name, detail);
    if (wrote > 0) list->used += (size_t)wrote < 159 ? (size_t)wrote : 159;
}

static bool ft__same_sizes(const ft_shape *a, const ft_shape *b)
{
    int d;
    if (a->rank != b->rank) return false;
    for (d = 0; d < a->rank; ++d)
        if (a->size[d] != b->size[d]) return false;
    return true;
}

/* PyTorch counts batches seen by a batch norm; with a set momentum nothing depends on it. */
static bool ft__is_counter(const char *name) { return ft__ends_with(name, "num_batches_tracked"); }

static void ft__load_one(ft_model *m, ft_file *file, int index, ft_weights_options options,
                         ft__list *unexpected, ft__list *mismatched)
{
    ft_tensor_info info = ft_file_tensor(file, index);
    char name[512], detail[176], has[80], wants[80];
    ft_node found;
    ft__node *node;
    ft__renamed(options.rename, info.name, name, sizeof name);
    found = ft__find_node(m, name);
    node = ft__get_node(m, found);
    if (!node || !ft__is_weight(node)) {
        if (!ft__is_counter(name))
            ft__list_add(unexpected, name, ft__shape_text(&info.shape, has));
        return;
    }
    if (!ft__same_sizes(&info.shape, &node->shape)) {
        snprintf(detail, sizeof detail, "%s instead of %s", ft__shape_text(&info.shape, has),
                 ft__shape_text(&node->shape, wants));
        ft__list_add(mismatched, name, detail);
        return;
    }
    if (node->loaded)
        ft__fail(&m->context, FT_MISMATCH, "%s: two tensors of the file go by this name", name);
    if (ft_file_read_f32(file, index, node->value, ft__node_count_at(node, ft__one)) == FT_OK)
        node->loaded = true;
}

/* Reads all weights of an opened file; `path` is for messages. */
static ft_status ft__load_weights(ft_model *m, ft_file *file, const char *path,
                                  ft_weights_options options)
{
    ft__context *c = &m->context;
    ft__list missing, unexpected, mismatched;
    char wants[80];
    int i;
    memset(&missing, 0, sizeof missing);
    memset(&unexpected, 0, sizeof unexpected);
    memset(&mismatched, 0, sizeof mismatched);
    ft__host_takes_weights(c, true);
    for (i = 0; i < m->node_count; ++i) m->nodes[i].loaded = false;
    for (i = 0; i < ft_file_count(file) && ft__ok(c); ++i)
        ft__load_one(m, file, i, options, &unexpected, &mismatched);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (ft__is_weight(node) && !node->loaded)
            ft__list_add(&missing, node->name, ft__shape_text(&node->shape, wants));
    }
    m->weights_version += 1;
    if (mismatched.count && !options.allow_mismatched)
        return ft__fail(c, FT_MISMATCH, "%s: %d tensors have another shape than the network's: %s"
                        "%s", path, mismatched.count, mismatched.text,
                        mismatched.count > 8 ? ", ..." : "");
    if (missing.count - (options.allow_mismatched ? mismatched.count : 0) > 0
        && !options.allow_missing)
        return ft__fail(c, FT_MISMATCH, "%s: lacks %d tensors of the network: %s%s", path,
                        missing.count, missing.text, missing.count > 8 ? ", ..." : "");
    if (unexpected.count && !options.allow_unexpected)
        return ft__fail(c, FT_MISMATCH, "%s: has %d tensors that the network lacks: %s%s", path,
                        unexpected.count, unexpected.text, unexpected.count > 8 ? ", ..." : "");
    return c->status;
}

/* =============================================================================================
   [SECTION] 12.5 Model files and checkpoints
   safetensors with the weights under their own names; __metadata__'s entry "finetune" holds the
   graph, class names and preprocessing as JSON, so that prediction needs one file; "training" the
   settings of the last fit. A checkpoint is
   the same file with optimiser state added, and an entry "checkpoint" that says where the run is.
   Nodes are written in the order of execution and numbered by it: the bytes of a file depend on
   the network, not on the order in which it was put together.
   ============================================================================================= */
static const char ft__graph_key[] = "finetune";
static const char ft__checkpoint_key[] = "checkpoint";
static const char ft__training_key[] = "training";
static const char ft__tokenizer_key[] = "tokenizer";
enum { FT__FILE_FORMAT = 1 };

/* ---- Writing ---- */

static void ft__write_sizes(ft__text *text, const char *key, const int *sizes, int count)
{
    int i;
    ft__text_add(text, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) ft__text_add(text, "%s%d", i ? "," : "", sizes[i]);
    ft__text_add(text, "]");
}

static void ft__write_field(ft__text *text, const ft__field *field, const ft__options *options)
{
    const char *at = (const char *)options + field->offset;
    int i, integer;
    float number;
    bool yes;
    ft__text_add(text, ",\"%s\":[", field->name);
    for (i = 0; i < field->count; ++i) {
        if (i) ft__text_add(text, ",");
        if (field->kind == 'i') {
            memcpy(&integer, at + (size_t)i * sizeof integer, sizeof integer);
            ft__text_add(text, "%d", integer);
        } else if (field->kind == 'f') {
            memcpy(&number, at + (size_t)i * sizeof number, sizeof number);
            ft__json_add_float(text, number);
        } else {
            memcpy(&yes, at + (size_t)i * sizeof yes, sizeof yes);
            ft__text_add(text, "%d", yes ? 1 : 0);
        }
    }
    ft__text_add(text, "]");
}

static void ft__write_node(const ft_model *m, ft__text *text, const ft__node *node,
                           const int *number)
{
    const ft__field *field = ft__rows[node->op].fields;
    int i;
    ft__text_add(text, "{\"op\":\"%s\",\"name\":", ft__rows[node->op].name);
    ft__json_add_text(text, node->name);
    if (ft__is_leaf(node)) {
        if (node->op == FT__OP_input) ft__text_add(text, ",\"type\":\"%s\"",
                                                   ft__type_names[node->type]);
        ft__write_sizes(text, "shape", node->shape.size, node->shape.rank);
    }
    if (node->frozen) ft__text_add(text, ",\"frozen\":true");
    if (node->initialiser) ft__text_add(text, ",\"initialiser\":%d", (int)node->initialiser);
    if (node->fan_in || node->fan_out) ft__text_add(text, ",\"fan\":[%d,%d]", node->fan_in,
                                                    node->fan_out);
    if (node->input_count) {
        ft__text_add(text, ",\"inputs\":[");
        for (i = 0; i < node->input_count; ++i)
            ft__text_add(text, "%s%d", i ? "," : "", number[node->inputs[i] - 1]);
        ft__text_add(text, "]");
    }
    for (; field->name; ++field) ft__write_field(text, field, &node->options);
    ft__text_add(text, "}");
    (void)m;
}

static void ft__write_preprocessing(ft__text *text, const ft_preprocessing *p)
{
    int i;
    ft__text_add(text, "\"preprocessing\":{\"width\":%d,\"height\":%d,\"channels\":%d,"
                 "\"resize\":%d,\"mean\":[", p->width, p->height, p->channels, p->resize);
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->mean[i]);
    }
    ft__text_add(text, "],\"std\":[");
    for (i = 0; i < 4; ++i) {
        if (i) ft__text_add(text, ",");
        ft__json_add_float(text, p->std[i]);
    }
    ft__text_add(text, "]}");
}

/* The graph as JSON; released by the caller. NULL with an error. */
static char *ft__graph_text(ft_model *m)
{
    ft__context *c = &m->context;
    ft__text text;
    int *number = (int *)ft__allocate(c, (size_t)m->node_count + 1, sizeof *number);
    int at, count = 0, i;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!number) return NULL;
    for (at = 0; at < m->node_count; ++at)
        number[m->order[at] - 1] = m->nodes[m->order[at] - 1].op ? count++ : -1;
    ft__text_add(&text, "{\"format\":%d,\"version\":\"%s\",\"architecture\":", FT__FILE_FORMAT,
                 FINETUNE_VERSION);
    ft__json_add_text(&text, m->architecture);
    ft__text_add(&text, ",\"keras_initialisers\":%s,\"nodes\":[", m->keras_initialisers ? "true"
                                                                                      : "false");
    for (at = 0; at < m->node_count; ++at) {
        const ft__node *node = &m->nodes[m->order[at] - 1];
        if (!node->op) continue;
        if (number[m->order[at] - 1]) ft__text_add(&text, ",");
        ft__write_node(m, &text, node, number);
    }
    ft__text_add(&text, "],\"output\":%d,\"loss\":%d,\"classes\":[",
                 m->output.id ? number[m->output.id - 1] : -1,
                 m->loss.id ? number[m->loss.id - 1] : -1);
    for (i = 0; i < m->class_count; ++i) {
        if (i) ft__text_add(&text, ",");
        ft__json_add_text(&text, m->class_names[i]);
    }
    ft__text_add(&text, "],");
    ft__write_preprocessing(&text, &m->preprocessing);
    ft__text_add(&text, "}");
    ft__release(c, number);
    if (ft__ok(c)) return text.letters;
    ft__release(c, text.letters);
    return NULL;
}

/* One tensor of the file that is being written; `label` goes before the name. */
static void ft__add_tensor(ft__context *c, ft__write_tensor *tensors, int *count, char **names,
                           const ft__node *node, const char *label, const float *value,
                           ft_type type)
{
    char name[640];
    if (!value || !ft__ok(c)) return;
    snprintf(name, sizeof name, "%s%s", label, node->name);
    names[*count] = ft__copy_text(c, name);
    if (!names[*count]) return;
    tensors[*count].name = names[*count];
    tensors[*count].type = type;
    tensors[*count].shape = node->shape;
    tensors[*count].data = value;
    *count += 1;
}

static const char *const ft__state_labels[] = {"optimizer.moment1/", "optimizer.moment2/", "kept/"};

static float **ft__state_of(ft__node *node, int which)
{
    return which == 0 ? &node->moment1 : which == 1 ? &node->moment2 : &node->kept;
}

/* Writes the model; with `checkpoint`, the state of training too, and that text. */
static ft_status ft__write_model(ft_model *m, const char *path, ft_type type,
                                 const char *checkpoint, bool kept)
{
    ft__context *c = &m->context;
    size_t most = 4 * (size_t)m->node_count + 1;
    ft__write_tensor *tensors = (ft__write_tensor *)ft__allocate(c, most, sizeof *tensors);
    char **names = (char **)ft__allocate(c, most, sizeof *names);
    char *graph = ft__graph_text(m);
    const char *metadata[8];
    int count = 0, pairs = 0, at, i;
    ft__host_takes_weights(c, false);
    for (at = 0; ft__ok(c) && at < m->node_count; ++at) {
        ft__node *node = &m->nodes[m->order[at] - 1];
        if (!ft__is_weight(node)) continue;
        ft__add_tensor(c, tensors, &count, names, node, "", node->value, type);
        for (i = 0; checkpoint && i < (kept ? 3 : 2); ++i)
            ft__add_tensor(c, tensors, &count, names, node, ft__state_labels[i],
                           *ft__state_of(node, i), FT_F32);
    }
    metadata[2 * pairs] = ft__graph_key;
    metadata[2 * pairs++ + 1] = graph;
    if (m->training) {
        metadata[2 * pairs] = ft__training_key;
        metadata[2 * pairs++ + 1] = m->training;
    }
    if (m->tokenizer_text) {
        metadata[2 * pairs] = ft__tokenizer_key;
        metadata[2 * pairs++ + 1] = m->tokenizer_text;
    }
    if (checkpoint) {
        metadata[2 * pairs] = ft__checkpoint_key;
        metadata[2 * pairs++ + 1] = checkpoint;
    }
    if (ft__ok(c)) ft__safetensors_write(c, path, tensors, count, metadata, pairs);
    ft__release(c, graph);
    for (i = count - 1; names && i >= 0; --i) ft__release(c, names[i]);
    ft__release(c, names);
    ft__release(c, tensors);
    return c->status;
}

/* ---- Reading: a graph comes from a file, so every number in it is checked ---- */

typedef struct ft__graph_reader {
    ft_model *m;
    ft_file *file;
    const char *path;
    ft__json *json;
    int *ids;               /* of the nodes made so far, by their number in the file */
    int count;
} ft__graph_reader;

static ft_status ft__graph_fault(ft__graph_reader *r, const char *what, const char *where)
{
    return ft__fail(&r->m->context, FT_FORMAT, "%s: damaged network description: %s %s", r->path,
                    what, where);
}

/* Reads up to `most` integers of a list; their count, -1 when it is no such list. */
static int ft__read_sizes(const ft__graph_reader *r, int list, int *sizes, int most)
{
    int count = ft__json_count(r->json, list), i;
    int64_t number;
    if (list < 0 || count > most) return -1;
    for (i = 0; i < count; ++i) {
        if (!ft__json_int(r->json, ft__json_element(r->json, list, i), &number)) return -1;
        if (number < INT_MIN || number > INT_MAX) return -1;
        sizes[i] = (int)number;
    }
    return count;
}

static bool ft__read_field(const ft__graph_reader *r, int node, const ft__field *field,
                           ft__options *options)
{
    int list = ft__json_member(r->json, node, field->name), i;
    char *at = (char *)options + field->offset;
    if (list < 0) return true; /* written by an older version: the default */
    if (ft__json_count(r->json, list) != field->count) return false;
    for (i = 0; i < field->count; ++i) {
        int element = ft__json_element(r->json, list, i);
        double number;
        if (!ft__json_double(r->json, element, &number)) return false;
        if (field->kind == 'f') {
            float value = (float)number;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        } else if (!(number >= -1e9 && number <= 1e9)) return false;
        else if (field->kind == 'i') {
            int value = (int)number;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        } else {
            bool value = number != 0;
            memcpy(at + (size_t)i * sizeof value, &value, sizeof value);
        }
    }
    return true;
}

static ft_node ft__read_leaf(ft__graph_reader *r, int node, int op, const char *name)
{
    ft__context *c = &r->m->context;
    ft_node made = ft__add_node(r->m, op, name, NULL, 0, NULL), none = {0};
    ft__node *leaf = ft__get_node(r->m, made);
    const char *type = ft__json_string(r->json, ft__json_member(r->json, node, "type"));
    ft_tensor_info info;
    int index, d;
    if (!leaf) return none;
    leaf->shape.rank = ft__read_sizes(r, ft__json_member(r->json, node, "shape"), leaf->shape.size,
                                      FINETUNE_MAX_RANK);
    if (type && strcmp(type, ft__type_names[FT_I32]) == 0) leaf->type = FT_I32;
    for (d = 0; d < leaf->shape.rank; ++d)
        if (leaf->shape.size[d] < 1
            && !(d == 0 && (op == FT__OP_input || op == FT__OP_state))
            && !(op == FT__OP_input && leaf->shape.size[d] == FT_LENGTH))
            leaf->shape.rank = -1;
    if (leaf->shape.rank < 1) {
        leaf->shape.rank = 0;
        ft__graph_fault(r, "a wrong shape of", name);
        return none;
    }
    if (op == FT__OP_input || op == FT__OP_state) {
        leaf->shape.size[0] = FT_BATCH;
        return made;
    }
    /* Memory is taken only for what the file really has. */
    index = ft_file_find(r->file, name);
    if (index < 0) {
        ft__fail(c, FT_FORMAT, "%s: lacks the weight %s", r->path, name);
        return none;
    }
    info = ft_file_tensor(r->file, index);
    if (!ft__same_sizes(&info.shape, &leaf->shape)) {
        ft__graph_fault(r, "the stored tensor has another shape:", name);
        return none;
    }
    leaf->value = (float *)ft__allocate(c, ft__node_count_at(leaf, ft__one), sizeof(float));
    return made;
}

static ft_node ft__read_operator(ft__graph_reader *r, int node, int op, const char *name)
{
    const ft__field *field = ft__rows[op].fields;
    int list = ft__json_member(r->json, node, "inputs"), count, i;
    ft_node *inputs, made = {0};
    ft__options options;
    int64_t number;
    memset(&options, 0, sizeof options);
    for (; field->name; ++field)
        if (!ft__read_field(r, node, field, &options)) ft__graph_fault(r, field->name, name);
    count = list < 0 ? 0 : ft__json_count(r->json, list);
    if (count < ft__rows[op].least_inputs || count > ft__rows[op].most_inputs)
        ft__graph_fault(r, "a wrong number of inputs of", name);
    inputs = (ft_node *)ft__allocate(&r->m->context, (size_t)count + 1, sizeof *inputs);
    for (i = 0; inputs && i < count; ++i) {
        if (ft__json_int(r->json, ft__json_element(r->json, list, i), &number) && number >= 0
            && number < r->count) inputs[i].id = r->ids[number];
        else ft__graph_fault(r, "an input that does not come before", name);
    }
    if (inputs) made = ft__add_node(r->m, op, name, inputs, count, &options);
    ft__release(&r->m->context, inputs);
    return made;
}


static ft_status ft__read_node(ft__graph_reader *r, int node)
{
    const char *op_name = ft__json_string(r->json, ft__json_member(r->json, node, "op"));
    const char *name = ft__json_string(r->json, ft__json_member(r->json, node, "name"));
    int op, fans[2] = {0, 0};
    int64_t initialiser = 0;
    ft_node made;
    ft__node *added;
    for (op = FT__OP_COUNT - 1; op > 0; --op)
        if (op_name && strcmp(ft__rows[op].name, op_name) == 0) break;
    if (!name || !*name || op == 0)
        return ft__graph_fault(r, "an unknown operator", op_name ? op_name : "");
    made = op <= FT__OP_state ? ft__read_leaf(r, node, op, name)
                               : ft__read_operator(r, node, op, name);
    added = ft__get_node(r->m, made);
    if (!added) return r->m->context.status;
    added->frozen = ft__json_true(r->json, ft__json_member(r->json, node, "frozen"));
    ft__json_int(r->json, ft__json_member(r->json, node, "initialiser"), &initialiser);
    ft__read_sizes(r, ft__json_member(r->json, node, "fan"), fans, 2);
    if (initialiser >= FT_INIT_DEFAULT && initialiser <= FT_INIT_ONES)
        added->initialiser = (ft_initialiser)initialiser;
    added->fan_in = fans[0] > 0 ? fans[0] : 0;
    added->fan_out = fans[1] > 0 ? fans[1] : 0;
    r->ids[r->count++] = made.id;
    return r->m->context.status;
}

static void ft__read_preprocessing(ft__graph_reader *r, int value)
{
    static const char *const names[] = {"width", "height", "channels", "resize"};
    ft_preprocessing p;
    int64_t number;
    double share;
    int i, mean = ft__json_member(r->json, value, "mean");
    int std = ft__json_member(r->json, value, "std");
    int *to[4];
    memset(&p, 0, sizeof p);
    to[0] = &p.width;
    to[1] = &p.height;
    to[2] = &p.channels;
    to[3] = &p.resize;
    for (i = 0; i < 4; ++i) {
        if (ft__json_int(r->json, ft__json_member(r->json, value, names[i]), &number)
            && number >= 0 && number <= 65535) *to[i] = (int)number;
        else ft__graph_fault(r, "preprocessing:", names[i]);
        if (ft__json_double(r->json, ft__json_element(r->json, mean, i), &share))
            p.mean[i] = (float)share;
        if (ft__json_double(r->json, ft__json_element(r->json, std, i), &share))
            p.std[i] = (float)share;
    }
    if (p.channels > 4) ft__graph_fault(r, "preprocessing:", "channels");
    if (p.width > 0) ft_set_preprocessing(r->m, p);
}

static ft_node ft__read_id(ft__graph_reader *r, int root, const char *key)
{
    ft_node node = {0};
    int64_t number;
    if (ft__json_int(r->json, ft__json_member(r->json, root, key), &number) && number >= 0
        && number < r->count) node.id = r->ids[number];
    return node;
}

static ft_status ft__read_graph(ft__graph_reader *r)
{
    ft_model *m = r->m;
    ft__context *c = &m->context;
    int nodes = ft__json_member(r->json, 0, "nodes"), count = ft__json_count(r->json, nodes), i;
    int classes = ft__json_member(r->json, 0, "classes");
    const char *architecture = ft__json_string(r->json,
                                               ft__json_member(r->json, 0, "architecture"));
    int64_t format = 0;
    ft_node output, loss;
    ft__json_int(r->json, ft__json_member(r->json, 0, "format"), &format);
    if (format != FT__FILE_FORMAT)
        return ft__fail(c, FT_FORMAT, "%s: a model file of format %lld; this version reads %d",
                        r->path, (long long)format, FT__FILE_FORMAT);
    r->ids = (int *)ft__allocate(c, (size_t)(count < 0 ? 0 : count) + 1, sizeof *r->ids);
    for (i = 0; ft__ok(c) && i < count; ++i)
        ft__read_node(r, ft__json_element(r->json, nodes, i));
    if (!ft__ok(c)) return c->status;
    m->keras_initialisers = ft__json_true(r->json, ft__json_member(r->json, 0,
                                                                   "keras_initialisers"));
    output = ft__read_id(r, 0, "output");
    loss = ft__read_id(r, 0, "loss");
    if (output.id) ft_set_output(m, output);
    if (loss.id) ft_set_loss(m, loss);
    if (architecture) ft__set_architecture(m, architecture);
    ft__read_preprocessing(r, ft__json_member(r->json, 0, "preprocessing"));
    count = ft__json_count(r->json, classes);
    if (count > 0) {
        const char **names = (const char **)ft__allocate(c, (size_t)count, sizeof *names);
        for (i = 0; names && i < count; ++i) {
            names[i] = ft__json_string(r->json, ft__json_element(r->json, classes, i));
            if (!names[i]) names[i] = "";
        }
        if (names) ft_set_class_names(m, count, names);
        ft__release(c, (void *)(uintptr_t)names);
    }
    return c->status;
}

/* Rebuilds the network that a model file describes; its weights are loaded afterwards. */
static ft_status ft__load_graph(ft_model *m, ft_file *file, const char *path)
{
    ft__context *c = &m->context;
    const char *text = ft_file_metadata(file, ft__graph_key);
    ft__graph_reader r;
    memset(&r, 0, sizeof r);
    r.m = m;
    r.file = file;
    r.path = path;
    r.json = ft__json_parse(c, text, strlen(text));
    if (!r.json) return ft__ok(c) ? ft__graph_fault(&r, "not JSON", "") : c->status;
    ft__read_graph(&r);
    if (ft__ok(c) && ft_file_metadata(file, ft__training_key))
        m->training = ft__copy_text(c, ft_file_metadata(file, ft__training_key));
    ft__release(c, r.ids);
    ft__json_free(c, r.json);
    return c->status;
}

/* =============================================================================================
   [SECTION] 12.6 Unicode
   Texts are UTF-8; what is not valid is taken byte by byte, so that every text can be read. The
   tables hold what tokenisers ask of a code point: its class, the letter without its accents, and
   the small letter. tests/golden/make_unicode.py prints them, from Unicode 14; code points that
   were not assigned then count as their neighbours do.
   ============================================================================================= */
enum { /* classes, by Unicode's general category */
    FT__OTHER = 0, FT__LETTER /* L */, FT__NUMBER /* N */, FT__PUNCTUATION /* P */,
    FT__MARK /* Mn: an accent that stands over or under the letter before it */,
    FT__CONTROL /* Cc, Cf, Co */
};
enum { FT__INVALID = 0xfffd }; /* stands for a byte that is not UTF-8 */

typedef struct ft__unicode_run { uint32_t from, count, step, to; } ft__unicode_run;

static const uint32_t ft__unicode_classes[] = {
    5, 256, 267, 288, 299, 344, 355, 386, 467, 480, 507, 521, 731, 752, 763, 768, 777, 987, 992,
    1003, 1008, 1021, 1280, 1291, 1296, 1339, 1344, 1361, 1371, 1376, 1389, 1392, 1426, 1440, 1449,
    1459, 1472, 1482, 1489, 1499, 1506, 1531, 1537, 1720, 1729, 1976, 1985, 5648, 5681, 5776, 5889,
    5928, 5985, 5992, 6001, 6008, 6148, 7041, 7080, 7089, 7155, 7161, 7200, 7217, 7227, 7233, 8112,
    8121, 9232, 9244, 9280, 9297, 10963, 11009, 11339, 11368, 11404, 11763, 11772, 11779, 11788,
    11803, 11812, 11827, 11836, 11905, 12187, 12293, 12336, 12363, 12376, 12387, 12400, 12420,
    12507, 12517, 12523, 12545, 12892, 13058, 13139, 13169, 13188, 13193, 13987, 13993, 14004,
    14061, 14064, 14076, 14121, 14140, 14152, 14164, 14193, 14210, 14289, 14312, 14329, 14339,
    14461, 14465, 14476, 14481, 14724, 14953, 15668, 15753, 15874, 15953, 16220, 16289, 16304,
    16315, 16337, 16364, 16368, 16385, 16564, 16593, 16604, 16673, 16684, 16705, 16716, 16771,
    16897, 17100, 17139, 17153, 17472, 17481, 17541, 17604, 17665, 18004, 18197, 18204, 18456,
    18465, 18900, 18904, 18916, 18921, 18928, 18956, 19016, 19052, 19056, 19073, 19084, 19137,
    19220, 19235, 19250, 19331, 19337, 19468, 19472, 19497, 19940, 19945, 19952, 19980, 20024,
    20076, 20081, 20152, 20193, 20244, 20274, 20353, 20368, 20386, 20432, 20449, 20459, 20468,
    20504, 20521, 20964, 20976, 21004, 21193, 21298, 21380, 21393, 21420, 21427, 21516, 21528,
    21545, 21988, 21993, 22000, 22028, 22088, 22124, 22145, 22292, 22322, 22403, 22408, 22473,
    22484, 22544, 22569, 23012, 23017, 23024, 23036, 23040, 23052, 23096, 23148, 23224, 23265,
    23316, 23346, 23424, 23433, 23442, 23572, 23577, 24048, 24068, 24072, 24172, 24193, 24248,
    24370, 24472, 24580, 24584, 24612, 24617, 25060, 25065, 25076, 25096, 25140, 25281, 25364,
    25394, 25531, 25538, 25592, 25601, 25612, 25616, 25635, 25641, 26084, 26089, 26096, 26108,
    26112, 26164, 26168, 26212, 26280, 26345, 26388, 26418, 26505, 26628, 26640, 26657, 27100,
    27113, 27120, 27148, 27184, 27244, 27249, 27256, 27297, 27320, 27330, 27385, 27412, 27442,
    27592, 27601, 27660, 27664, 27689, 28244, 28280, 28308, 28352, 28466, 28560, 28579, 28681,
    29068, 29073, 29092, 29176, 29185, 29244, 29307, 29314, 29395, 29705, 30092, 30097, 30116,
    30185, 30276, 30338, 30433, 30728, 30755, 30872, 30883, 30888, 30916, 30928, 30978, 31136,
    31148, 31152, 31164, 31168, 31180, 31187, 31216, 31233, 31628, 31736, 31748, 31787, 31796,
    31809, 31852, 32240, 32308, 32312, 32387, 32424, 32459, 32769, 33112, 33132, 33160, 33172,
    33216, 33228, 33240, 33260, 33273, 33282, 33363, 33409, 33456, 33476, 33489, 33524, 33545,
    33552, 33577, 33592, 33649, 33676, 33705, 33812, 33816, 33836, 33848, 33900, 33905, 33912,
    33922, 34000, 34028, 34032, 34049, 34779, 34785, 39660, 39683, 39754, 39937, 40064, 40193,
    40963, 40969, 45928, 45939, 45945, 46080, 46089, 46299, 46337, 46939, 46962, 46985, 47252,
    47272, 47353, 47508, 47520, 47531, 47617, 47764, 47873, 48020, 48129, 48548, 48560, 48572,
    48624, 48692, 48696, 48716, 48803, 48825, 48835, 48856, 48865, 48876, 48898, 49155, 49244,
    49269, 49276, 49282, 49409, 50220, 50233, 50508, 50513, 51460, 51480, 51516, 51528, 51604,
    51608, 51660, 51712, 51747, 51762, 51841, 52866, 52976, 53249, 53436, 53448, 53468, 53491,
    53505, 53928, 53940, 53944, 53956, 54024, 54036, 54040, 54060, 54120, 54172, 54274, 54531,
    54585, 54595, 54660, 54768, 54780, 55328, 55337, 55716, 55720, 55732, 55768, 55780, 55784,
    55828, 55832, 55849, 55938, 56019, 56072, 56156, 56224, 56299, 56324, 56336, 56345, 56584,
    56596, 56624, 56644, 56656, 56668, 56689, 56706, 56785, 57140, 57144, 57156, 57168, 57196,
    57200, 57212, 57232, 57315, 57345, 57632, 57700, 57760, 57780, 57819, 57858, 57961, 57986,
    58065, 58355, 58369, 58883, 59012, 59035, 59044, 59144, 59156, 59209, 59244, 59249, 59300,
    59305, 59320, 59332, 59345, 60932, 61441, 65000, 65009, 65016, 65041, 65128, 65153, 65256,
    65281, 65384, 65425, 65512, 65629, 65667, 65856, 65877, 65912, 65923, 66080, 66091, 66192,
    66203, 66296, 66309, 66434, 66441, 66466, 66512, 66539, 66553, 66562, 66640, 66667, 66689,
    66816, 67204, 67304, 67340, 67344, 67372, 67584, 67601, 67608, 67641, 67648, 67665, 67744,
    67753, 67760, 67785, 67824, 67873, 67880, 67889, 67896, 67905, 67912, 67921, 67952, 67961,
    68048, 68065, 68096, 68137, 68176, 68209, 68216, 68226, 68633, 68650, 68688, 71747, 71776,
    72011, 72024, 74498, 74976, 75602, 75776, 80707, 80818, 81056, 81451, 81464, 81715, 81792,
    85019, 85192, 85699, 85728, 85987, 86000, 90113, 91944, 91993, 92028, 92049, 92107, 92138,
    92147, 92161, 93059, 93180, 93185, 93956, 94211, 94585, 94595, 94848, 94867, 95232, 98315,
    98336, 98345, 98362, 98371, 98448, 98467, 98560, 98570, 98644, 98672, 98691, 98697, 98736,
    98754, 98777, 98795, 98800, 98825, 99532, 99544, 99561, 99587, 99593, 100315, 100321, 101504,
    101522, 101552, 101633, 101888, 102273, 102400, 102658, 102736, 102978, 103040, 103050, 103168,
    103426, 103504, 103818, 103936, 106497, 159232, 159745, 337024, 337537, 337907, 337921, 340075,
    340097, 340226, 340305, 340860, 340864, 340891, 340900, 340979, 340985, 341236, 341249, 341810,
    341892, 341907, 342016, 342201, 342272, 342289, 343112, 343129, 344084, 344089, 344116, 344121,
    344156, 344161, 344344, 344364, 344376, 344420, 344450, 344496, 344577, 344995, 345088, 345105,
    345504, 345636, 345715, 345730, 345860, 346001, 346051, 346073, 346083, 346089, 346108, 346114,
    346193, 346420, 346483, 346497, 346684, 346768, 346875, 346881, 347140, 347160, 347169, 347548,
    347552, 347572, 347600, 347620, 347632, 347659, 347769, 347778, 347891, 347905, 347948, 347953,
    348034, 348113, 348492, 348536, 348556, 348568, 348588, 348673, 348700, 348705, 348772, 348776,
    348802, 348899, 348929, 349112, 349137, 349144, 349156, 349160, 349169, 349572, 349577, 349588,
    349609, 349628, 349641, 349684, 349697, 349708, 349713, 349939, 349953, 350040, 350052, 350064,
    350083, 350097, 350120, 350132, 350217, 350936, 350945, 351056, 351105, 352024, 352044, 352048,
    352068, 352072, 352091, 352096, 352108, 352130, 352257, 458757, 509953, 514292, 514297, 514376,
    514385, 515472, 515737, 518643, 518656, 518785, 519800, 520065, 520160, 520196, 520323, 520452,
    520579, 520976, 520987, 520992, 521027, 521032, 521043, 521089, 522237, 522251, 522272, 522283,
    522328, 522339, 522370, 522451, 522464, 522491, 522505, 522715, 522736, 522747, 522752, 522761,
    522971, 522976, 522987, 522992, 523003, 523057, 524032, 524237, 524256, 524289, 526339, 526394,
    526776, 526850, 527304, 527442, 527456, 528364, 529409, 530180, 530186, 530433, 530690, 530793,
    530954, 530961, 531026, 531073, 531380, 531457, 531707, 531713, 532099, 532106, 532481, 533762,
    533889, 535419, 535425, 541371, 541378, 541441, 541624, 541642, 541697, 542010, 542465, 542682,
    542721, 542898, 542971, 542977, 543227, 543745, 544226, 544241, 544258, 544769, 544780, 544897,
    545220, 545282, 545411, 545537, 545770, 545787, 545793, 546026, 546305, 546368, 546377, 546604,
    546650, 546691, 546817, 547275, 547329, 547522, 547585, 547778, 547841, 548043, 548170, 548865,
    550866, 550913, 551204, 551298, 553985, 554332, 554347, 554369, 555242, 555321, 555572, 555658,
    555691, 555905, 556052, 556083, 556417, 556586, 556801, 557056, 557068, 557072, 557081, 557508,
    557627, 557714, 557956, 557961, 557980, 557993, 558076, 558096, 558105, 558464, 558492, 558520,
    558540, 558555, 558573, 558579, 558612, 558701, 558721, 558978, 559108, 559129, 559420, 559456,
    559468, 559538, 559619, 559649, 559656, 559673, 560028, 560035, 560049, 560132, 560144, 560153,
    560536, 560564, 560632, 560649, 560683, 560716, 560747, 560752, 560764, 560770, 560849, 560859,
    560865, 560875, 560906, 561153, 561504, 561532, 561552, 561572, 561576, 561588, 561603, 561652,
    562177, 562507, 562561, 562940, 562944, 562972, 563074, 563204, 563216, 563241, 563676, 563689,
    563696, 563716, 563720, 563841, 563896, 563945, 563984, 564020, 565249, 565672, 565700, 565760,
    565780, 565800, 565812, 565817, 565851, 565890, 565971, 566004, 566009, 566656, 566684, 566728,
    566740, 566744, 566780, 566792, 566804, 566817, 566835, 566841, 566914, 568321, 568696, 568724,
    568768, 568804, 568816, 568828, 568843, 569025, 569060, 569345, 569728, 569756, 569816, 569836,
    569840, 569852, 569867, 569889, 569986, 570115, 570369, 570716, 570720, 570732, 570736, 570756,
    570800, 570812, 570817, 570827, 570882, 571393, 571628, 571648, 571668, 571696, 571708, 571778,
    571875, 571896, 571905, 573792, 573820, 573888, 573900, 573915, 574721, 575234, 575481, 575872,
    575964, 575976, 575988, 575993, 576000, 576009, 576016, 576028, 576035, 576130, 576769, 577160,
    577188, 577248, 577284, 577289, 577299, 577305, 577312, 577537, 577548, 577625, 577948, 577992,
    578001, 578012, 578043, 578108, 578177, 578188, 578232, 578252, 578273, 578644, 578744, 578756,
    578771, 578793, 578803, 578945, 582008, 582020, 582128, 582140, 582145, 582155, 582274, 582531,
    582545, 582804, 582984, 582996, 583048, 583060, 583072, 583084, 583681, 584076, 584241, 584252,
    584322, 584449, 584784, 584836, 584856, 584876, 584880, 584892, 584897, 584962, 587521, 587676,
    587688, 587707, 589185, 589314, 589480, 589819, 589825, 598018, 598915, 599041, 622475, 622593,
    631173, 663553, 742146, 742259, 742273, 742914, 743041, 743300, 743339, 743425, 743812, 743867,
    743904, 743937, 743971, 743976, 744066, 744217, 750594, 750779, 751617, 752252, 752257, 752264,
    752764, 752793, 753427, 753433, 753444, 753536, 753665, 910560, 910572, 910587, 910597, 948228,
    948864, 953148, 953168, 953245, 953308, 953368, 953388, 953440, 953684, 953712, 954900, 954920,
    956162, 956416, 957186, 958465, 964104, 964113, 964312, 964321, 964568, 964577, 964776, 964785,
    965032, 965041, 965240, 965249, 965496, 965505, 965704, 965713, 965960, 965969, 966168, 966177,
    966258, 966656, 970756, 971192, 971228, 971624, 971692, 971696, 971812, 971816, 971835, 971996,
    980993, 983044, 985089, 985476, 985529, 985602, 985713, 985720, 988289, 988532, 988673, 989028,
    989058, 989176, 999169, 1001018, 1001092, 1001473, 1002020, 1002073, 1002114, 1002227, 1008522,
    1008992, 1009002, 1009024, 1009034, 1010032, 1010042, 1011713, 1013632, 1017858, 1017960,
    1040258, 1048577, 7340045, 7342084, 7864325,
};

static const ft__unicode_run ft__unicode_bases[] = {
    {192,6,1,65}, {199,1,1,67}, {200,4,1,69}, {204,4,1,73}, {209,1,1,78}, {210,5,1,79},
    {217,4,1,85}, {221,1,1,89}, {224,6,1,97}, {231,1,1,99}, {232,4,1,101}, {236,4,1,105},
    {241,1,1,110}, {242,5,1,111}, {249,4,1,117}, {253,2,2,121}, {256,1,1,65}, {257,1,1,97},
    {258,1,1,65}, {259,1,1,97}, {260,1,1,65}, {261,1,1,97}, {262,1,1,67}, {263,1,1,99},
    {264,1,1,67}, {265,1,1,99}, {266,1,1,67}, {267,1,1,99}, {268,1,1,67}, {269,1,1,99},
    {270,1,1,68}, {271,1,1,100}, {274,1,1,69}, {275,1,1,101}, {276,1,1,69}, {277,1,1,101},
    {278,1,1,69}, {279,1,1,101}, {280,1,1,69}, {281,1,1,101}, {282,1,1,69}, {283,1,1,101},
    {284,1,1,71}, {285,1,1,103}, {286,1,1,71}, {287,1,1,103}, {288,1,1,71}, {289,1,1,103},
    {290,1,1,71}, {291,1,1,103}, {292,1,1,72}, {293,1,1,104}, {296,1,1,73}, {297,1,1,105},
    {298,1,1,73}, {299,1,1,105}, {300,1,1,73}, {301,1,1,105}, {302,1,1,73}, {303,1,1,105},
    {304,1,1,73}, {308,1,1,74}, {309,1,1,106}, {310,1,1,75}, {311,1,1,107}, {313,1,1,76},
    {314,1,1,108}, {315,1,1,76}, {316,1,1,108}, {317,1,1,76}, {318,1,1,108}, {323,1,1,78},
    {324,1,1,110}, {325,1,1,78}, {326,1,1,110}, {327,1,1,78}, {328,1,1,110}, {332,1,1,79},
    {333,1,1,111}, {334,1,1,79}, {335,1,1,111}, {336,1,1,79}, {337,1,1,111}, {340,1,1,82},
    {341,1,1,114}, {342,1,1,82}, {343,1,1,114}, {344,1,1,82}, {345,1,1,114}, {346,1,1,83},
    {347,1,1,115}, {348,1,1,83}, {349,1,1,115}, {350,1,1,83}, {351,1,1,115}, {352,1,1,83},
    {353,1,1,115}, {354,1,1,84}, {355,1,1,116}, {356,1,1,84}, {357,1,1,116}, {360,1,1,85},
    {361,1,1,117}, {362,1,1,85}, {363,1,1,117}, {364,1,1,85}, {365,1,1,117}, {366,1,1,85},
    {367,1,1,117}, {368,1,1,85}, {369,1,1,117}, {370,1,1,85}, {371,1,1,117}, {372,1,1,87},
    {373,1,1,119}, {374,1,1,89}, {375,1,1,121}, {376,1,1,89}, {377,1,1,90}, {378,1,1,122},
    {379,1,1,90}, {380,1,1,122}, {381,1,1,90}, {382,1,1,122}, {416,1,1,79}, {417,1,1,111},
    {431,1,1,85}, {432,1,1,117}, {461,1,1,65}, {462,1,1,97}, {463,1,1,73}, {464,1,1,105},
    {465,1,1,79}, {466,1,1,111}, {467,1,1,85}, {468,1,1,117}, {469,1,1,85}, {470,1,1,117},
    {471,1,1,85}, {472,1,1,117}, {473,1,1,85}, {474,1,1,117}, {475,1,1,85}, {476,1,1,117},
    {478,1,1,65}, {479,1,1,97}, {480,1,1,65}, {481,1,1,97}, {482,1,1,198}, {483,1,1,230},
    {486,1,1,71}, {487,1,1,103}, {488,1,1,75}, {489,1,1,107}, {490,1,1,79}, {491,1,1,111},
    {492,1,1,79}, {493,1,1,111}, {494,1,1,439}, {495,1,1,658}, {496,1,1,106}, {500,1,1,71},
    {501,1,1,103}, {504,1,1,78}, {505,1,1,110}, {506,1,1,65}, {507,1,1,97}, {508,1,1,198},
    {509,1,1,230}, {510,1,1,216}, {511,1,1,248}, {512,1,1,65}, {513,1,1,97}, {514,1,1,65},
    {515,1,1,97}, {516,1,1,69}, {517,1,1,101}, {518,1,1,69}, {519,1,1,101}, {520,1,1,73},
    {521,1,1,105}, {522,1,1,73}, {523,1,1,105}, {524,1,1,79}, {525,1,1,111}, {526,1,1,79},
    {527,1,1,111}, {528,1,1,82}, {529,1,1,114}, {530,1,1,82}, {531,1,1,114}, {532,1,1,85},
    {533,1,1,117}, {534,1,1,85}, {535,1,1,117}, {536,1,1,83}, {537,1,1,115}, {538,1,1,84},
    {539,1,1,116}, {542,1,1,72}, {543,1,1,104}, {550,1,1,65}, {551,1,1,97}, {552,1,1,69},
    {553,1,1,101}, {554,1,1,79}, {555,1,1,111}, {556,1,1,79}, {557,1,1,111}, {558,1,1,79},
    {559,1,1,111}, {560,1,1,79}, {561,1,1,111}, {562,1,1,89}, {563,1,1,121}, {884,1,1,697},
    {894,1,1,59}, {901,1,1,168}, {902,1,1,913}, {903,1,1,183}, {904,1,1,917}, {905,1,1,919},
    {906,1,1,921}, {908,1,1,927}, {910,1,1,933}, {911,1,1,937}, {912,1,1,953}, {938,1,1,921},
    {939,1,1,933}, {940,1,1,945}, {941,1,1,949}, {942,1,1,951}, {943,1,1,953}, {944,1,1,965},
    {970,1,1,953}, {971,1,1,965}, {972,1,1,959}, {973,1,1,965}, {974,1,1,969}, {979,2,1,978},
    {1024,2,1,1045}, {1027,1,1,1043}, {1031,1,1,1030}, {1036,1,1,1050}, {1037,1,1,1048},
    {1038,1,1,1059}, {1049,1,1,1048}, {1081,1,1,1080}, {1104,2,1,1077}, {1107,1,1,1075},
    {1111,1,1,1110}, {1116,1,1,1082}, {1117,1,1,1080}, {1118,1,1,1091}, {1142,1,1,1140},
    {1143,1,1,1141}, {1217,1,1,1046}, {1218,1,1,1078}, {1232,1,1,1040}, {1233,1,1,1072},
    {1234,1,1,1040}, {1235,1,1,1072}, {1238,1,1,1045}, {1239,1,1,1077}, {1242,1,1,1240},
    {1243,1,1,1241}, {1244,1,1,1046}, {1245,1,1,1078}, {1246,1,1,1047}, {1247,1,1,1079},
    {1250,1,1,1048}, {1251,1,1,1080}, {1252,1,1,1048}, {1253,1,1,1080}, {1254,1,1,1054},
    {1255,1,1,1086}, {1258,1,1,1256}, {1259,1,1,1257}, {1260,1,1,1069}, {1261,1,1,1101},
    {1262,1,1,1059}, {1263,1,1,1091}, {1264,1,1,1059}, {1265,1,1,1091}, {1266,1,1,1059},
    {1267,1,1,1091}, {1268,1,1,1063}, {1269,1,1,1095}, {1272,1,1,1067}, {1273,1,1,1099},
    {1570,2,1,1575}, {1572,1,1,1608}, {1573,1,1,1575}, {1574,1,1,1610}, {1728,1,1,1749},
    {1730,1,1,1729}, {1747,1,1,1746}, {2345,1,1,2344}, {2353,1,1,2352}, {2356,1,1,2355},
    {2392,1,1,2325}, {2393,1,1,2326}, {2394,1,1,2327}, {2395,1,1,2332}, {2396,1,1,2337},
    {2397,1,1,2338}, {2398,1,1,2347}, {2399,1,1,2351}, {2524,1,1,2465}, {2525,1,1,2466},
    {2527,1,1,2479}, {2611,1,1,2610}, {2614,1,1,2616}, {2649,1,1,2582}, {2650,1,1,2583},
    {2651,1,1,2588}, {2654,1,1,2603}, {2888,1,1,2887}, {2908,1,1,2849}, {2909,1,1,2850},
    {3264,1,1,3285}, {3271,1,1,3285}, {3272,1,1,3286}, {3274,1,1,3266}, {3546,1,1,3545},
    {3907,1,1,3906}, {3917,1,1,3916}, {3922,1,1,3921}, {3927,1,1,3926}, {3932,1,1,3931},
    {3945,1,1,3904}, {4134,1,1,4133}, {6971,2,2,6965}, {6979,1,1,6965}, {7680,1,1,65},
    {7681,1,1,97}, {7682,1,1,66}, {7683,1,1,98}, {7684,1,1,66}, {7685,1,1,98}, {7686,1,1,66},
    {7687,1,1,98}, {7688,1,1,67}, {7689,1,1,99}, {7690,1,1,68}, {7691,1,1,100}, {7692,1,1,68},
    {7693,1,1,100}, {7694,1,1,68}, {7695,1,1,100}, {7696,1,1,68}, {7697,1,1,100}, {7698,1,1,68},
    {7699,1,1,100}, {7700,1,1,69}, {7701,1,1,101}, {7702,1,1,69}, {7703,1,1,101}, {7704,1,1,69},
    {7705,1,1,101}, {7706,1,1,69}, {7707,1,1,101}, {7708,1,1,69}, {7709,1,1,101}, {7710,1,1,70},
    {7711,1,1,102}, {7712,1,1,71}, {7713,1,1,103}, {7714,1,1,72}, {7715,1,1,104}, {7716,1,1,72},
    {7717,1,1,104}, {7718,1,1,72}, {7719,1,1,104}, {7720,1,1,72}, {7721,1,1,104}, {7722,1,1,72},
    {7723,1,1,104}, {7724,1,1,73}, {7725,1,1,105}, {7726,1,1,73}, {7727,1,1,105}, {7728,1,1,75},
    {7729,1,1,107}, {7730,1,1,75}, {7731,1,1,107}, {7732,1,1,75}, {7733,1,1,107}, {7734,1,1,76},
    {7735,1,1,108}, {7736,1,1,76}, {7737,1,1,108}, {7738,1,1,76}, {7739,1,1,108}, {7740,1,1,76},
    {7741,1,1,108}, {7742,1,1,77}, {7743,1,1,109}, {7744,1,1,77}, {7745,1,1,109}, {7746,1,1,77},
    {7747,1,1,109}, {7748,1,1,78}, {7749,1,1,110}, {7750,1,1,78}, {7751,1,1,110}, {7752,1,1,78},
    {7753,1,1,110}, {7754,1,1,78}, {7755,1,1,110}, {7756,1,1,79}, {7757,1,1,111}, {7758,1,1,79},
    {7759,1,1,111}, {7760,1,1,79}, {7761,1,1,111}, {7762,1,1,79}, {7763,1,1,111}, {7764,1,1,80},
    {7765,1,1,112}, {7766,1,1,80}, {7767,1,1,112}, {7768,1,1,82}, {7769,1,1,114}, {7770,1,1,82},
    {7771,1,1,114}, {7772,1,1,82}, {7773,1,1,114}, {7774,1,1,82}, {7775,1,1,114}, {7776,1,1,83},
    {7777,1,1,115}, {7778,1,1,83}, {7779,1,1,115}, {7780,1,1,83}, {7781,1,1,115}, {7782,1,1,83},
    {7783,1,1,115}, {7784,1,1,83}, {7785,1,1,115}, {7786,1,1,84}, {7787,1,1,116}, {7788,1,1,84},
    {7789,1,1,116}, {7790,1,1,84}, {7791,1,1,116}, {7792,1,1,84}, {7793,1,1,116}, {7794,1,1,85},
    {7795,1,1,117}, {7796,1,1,85}, {7797,1,1,117}, {7798,1,1,85}, {7799,1,1,117}, {7800,1,1,85},
    {7801,1,1,117}, {7802,1,1,85}, {7803,1,1,117}, {7804,1,1,86}, {7805,1,1,118}, {7806,1,1,86},
    {7807,1,1,118}, {7808,1,1,87}, {7809,1,1,119}, {7810,1,1,87}, {7811,1,1,119}, {7812,1,1,87},
    {7813,1,1,119}, {7814,1,1,87}, {7815,1,1,119}, {7816,1,1,87}, {7817,1,1,119}, {7818,1,1,88},
    {7819,1,1,120}, {7820,1,1,88}, {7821,1,1,120}, {7822,1,1,89}, {7823,1,1,121}, {7824,1,1,90},
    {7825,1,1,122}, {7826,1,1,90}, {7827,1,1,122}, {7828,1,1,90}, {7829,1,1,122}, {7830,1,1,104},
    {7831,1,1,116}, {7832,1,1,119}, {7833,1,1,121}, {7835,1,1,383}, {7840,1,1,65}, {7841,1,1,97},
    {7842,1,1,65}, {7843,1,1,97}, {7844,1,1,65}, {7845,1,1,97}, {7846,1,1,65}, {7847,1,1,97},
    {7848,1,1,65}, {7849,1,1,97}, {7850,1,1,65}, {7851,1,1,97}, {7852,1,1,65}, {7853,1,1,97},
    {7854,1,1,65}, {7855,1,1,97}, {7856,1,1,65}, {7857,1,1,97}, {7858,1,1,65}, {7859,1,1,97},
    {7860,1,1,65}, {7861,1,1,97}, {7862,1,1,65}, {7863,1,1,97}, {7864,1,1,69}, {7865,1,1,101},
    {7866,1,1,69}, {7867,1,1,101}, {7868,1,1,69}, {7869,1,1,101}, {7870,1,1,69}, {7871,1,1,101},
    {7872,1,1,69}, {7873,1,1,101}, {7874,1,1,69}, {7875,1,1,101}, {7876,1,1,69}, {7877,1,1,101},
    {7878,1,1,69}, {7879,1,1,101}, {7880,1,1,73}, {7881,1,1,105}, {7882,1,1,73}, {7883,1,1,105},
    {7884,1,1,79}, {7885,1,1,111}, {7886,1,1,79}, {7887,1,1,111}, {7888,1,1,79}, {7889,1,1,111},
    {7890,1,1,79}, {7891,1,1,111}, {7892,1,1,79}, {7893,1,1,111}, {7894,1,1,79}, {7895,1,1,111},
    {7896,1,1,79}, {7897,1,1,111}, {7898,1,1,79}, {7899,1,1,111}, {7900,1,1,79}, {7901,1,1,111},
    {7902,1,1,79}, {7903,1,1,111}, {7904,1,1,79}, {7905,1,1,111}, {7906,1,1,79}, {7907,1,1,111},
    {7908,1,1,85}, {7909,1,1,117}, {7910,1,1,85}, {7911,1,1,117}, {7912,1,1,85}, {7913,1,1,117},
    {7914,1,1,85}, {7915,1,1,117}, {7916,1,1,85}, {7917,1,1,117}, {7918,1,1,85}, {7919,1,1,117},
    {7920,1,1,85}, {7921,1,1,117}, {7922,1,1,89}, {7923,1,1,121}, {7924,1,1,89}, {7925,1,1,121},
    {7926,1,1,89}, {7927,1,1,121}, {7928,1,1,89}, {7929,1,1,121}, {7936,8,1,945}, {7944,8,1,913},
    {7952,6,1,949}, {7960,6,1,917}, {7968,8,1,951}, {7976,8,1,919}, {7984,8,1,953}, {7992,8,1,921},
    {8000,6,1,959}, {8008,6,1,927}, {8016,8,1,965}, {8025,4,2,933}, {8032,8,1,969}, {8040,8,1,937},
    {8048,2,1,945}, {8050,2,1,949}, {8052,2,1,951}, {8054,2,1,953}, {8056,2,1,959}, {8058,2,1,965},
    {8060,2,1,969}, {8064,8,1,945}, {8072,8,1,913}, {8080,8,1,951}, {8088,8,1,919}, {8096,8,1,969},
    {8104,8,1,937}, {8112,5,1,945}, {8118,2,1,945}, {8120,5,1,913}, {8126,1,1,953}, {8129,1,1,168},
    {8130,3,1,951}, {8134,2,1,951}, {8136,2,1,917}, {8138,3,1,919}, {8141,3,1,8127}, {8144,4,1,953},
    {8150,2,1,953}, {8152,4,1,921}, {8157,3,1,8190}, {8160,4,1,965}, {8164,2,1,961}, {8166,2,1,965},
    {8168,4,1,933}, {8172,1,1,929}, {8173,2,1,168}, {8175,1,1,96}, {8178,3,1,969}, {8182,2,1,969},
    {8184,2,1,927}, {8186,3,1,937}, {8189,1,1,180}, {8192,1,1,8194}, {8193,1,1,8195},
    {8486,1,1,937}, {8490,1,1,75}, {8491,1,1,65}, {8602,1,1,8592}, {8603,1,1,8594}, {8622,1,1,8596},
    {8653,1,1,8656}, {8654,1,1,8660}, {8655,1,1,8658}, {8708,1,1,8707}, {8713,1,1,8712},
    {8716,1,1,8715}, {8740,1,1,8739}, {8742,1,1,8741}, {8769,1,1,8764}, {8772,1,1,8771},
    {8775,1,1,8773}, {8777,1,1,8776}, {8800,1,1,61}, {8802,1,1,8801}, {8813,1,1,8781},
    {8814,1,1,60}, {8815,1,1,62}, {8816,1,1,8804}, {8817,1,1,8805}, {8820,1,1,8818},
    {8821,1,1,8819}, {8824,1,1,8822}, {8825,1,1,8823}, {8832,1,1,8826}, {8833,1,1,8827},
    {8836,1,1,8834}, {8837,1,1,8835}, {8840,1,1,8838}, {8841,1,1,8839}, {8876,1,1,8866},
    {8877,1,1,8872}, {8878,1,1,8873}, {8879,1,1,8875}, {8928,1,1,8828}, {8929,1,1,8829},
    {8930,1,1,8849}, {8931,1,1,8850}, {8938,1,1,8882}, {8939,1,1,8883}, {8940,1,1,8884},
    {8941,1,1,8885}, {9001,1,1,12296}, {9002,1,1,12297}, {10972,1,1,10973}, {12364,1,1,12363},
    {12366,1,1,12365}, {12368,1,1,12367}, {12370,1,1,12369}, {12372,1,1,12371}, {12374,1,1,12373},
    {12376,1,1,12375}, {12378,1,1,12377}, {12380,1,1,12379}, {12382,1,1,12381}, {12384,1,1,12383},
    {12386,1,1,12385}, {12389,1,1,12388}, {12391,1,1,12390}, {12393,1,1,12392}, {12400,2,1,12399},
    {12403,2,1,12402}, {12406,2,1,12405}, {12409,2,1,12408}, {12412,2,1,12411}, {12436,1,1,12358},
    {12446,1,1,12445}, {12460,1,1,12459}, {12462,1,1,12461}, {12464,1,1,12463}, {12466,1,1,12465},
    {12468,1,1,12467}, {12470,1,1,12469}, {12472,1,1,12471}, {12474,1,1,12473}, {12476,1,1,12475},
    {12478,1,1,12477}, {12480,1,1,12479}, {12482,1,1,12481}, {12485,1,1,12484}, {12487,1,1,12486},
    {12489,1,1,12488}, {12496,2,1,12495}, {12499,2,1,12498}, {12502,2,1,12501}, {12505,2,1,12504},
    {12508,2,1,12507}, {12532,1,1,12454}, {12535,1,1,12527}, {12536,1,1,12528}, {12537,1,1,12529},
    {12538,1,1,12530}, {12542,1,1,12541}, {64285,1,1,1497}, {64287,1,1,1522}, {64298,4,1,1513},
    {64302,3,1,1488}, {64305,1,1,1489}, {64306,1,1,1490}, {64307,1,1,1491}, {64308,1,1,1492},
    {64309,1,1,1493}, {64310,1,1,1494}, {64312,1,1,1496}, {64313,1,1,1497}, {64314,1,1,1498},
    {64315,1,1,1499}, {64316,1,1,1500}, {64318,1,1,1502}, {64320,1,1,1504}, {64321,1,1,1505},
    {64323,1,1,1507}, {64324,1,1,1508}, {64326,1,1,1510}, {64327,1,1,1511}, {64328,1,1,1512},
    {64329,1,1,1513}, {64330,1,1,1514}, {64331,1,1,1493}, {64332,1,1,1489}, {64333,1,1,1499},
    {64334,1,1,1508}, {69786,1,1,69785}, {69788,1,1,69787}, {69803,1,1,69797}, {70843,1,1,70841},
};

static const ft__unicode_run ft__unicode_lower[] = {
    {65,26,1,97}, {192,23,1,224}, {216,7,1,248}, {256,24,2,257}, {306,3,2,307}, {313,8,2,314},
    {330,23,2,331}, {376,1,1,255}, {377,3,2,378}, {385,1,1,595}, {386,2,2,387}, {390,1,1,596},
    {391,1,1,392}, {393,2,1,598}, {395,1,1,396}, {398,1,1,477}, {399,1,1,601}, {400,1,1,603},
    {401,1,1,402}, {403,1,1,608}, {404,1,1,611}, {406,1,1,617}, {407,1,1,616}, {408,1,1,409},
    {412,1,1,623}, {413,1,1,626}, {415,1,1,629}, {416,3,2,417}, {422,1,1,640}, {423,1,1,424},
    {425,1,1,643}, {428,1,1,429}, {430,1,1,648}, {431,1,1,432}, {433,2,1,650}, {435,2,2,436},
    {439,1,1,658}, {440,1,1,441}, {444,1,1,445}, {452,1,1,454}, {453,1,1,454}, {455,1,1,457},
    {456,1,1,457}, {458,1,1,460}, {459,9,2,460}, {478,9,2,479}, {497,1,1,499}, {498,2,2,499},
    {502,1,1,405}, {503,1,1,447}, {504,20,2,505}, {544,1,1,414}, {546,9,2,547}, {570,1,1,11365},
    {571,1,1,572}, {573,1,1,410}, {574,1,1,11366}, {577,1,1,578}, {579,1,1,384}, {580,1,1,649},
    {581,1,1,652}, {582,5,2,583}, {880,2,2,881}, {886,1,1,887}, {895,1,1,1011}, {902,1,1,940},
    {904,3,1,941}, {908,1,1,972}, {910,2,1,973}, {913,17,1,945}, {931,9,1,963}, {975,1,1,983},
    {984,12,2,985}, {1012,1,1,952}, {1015,1,1,1016}, {1017,1,1,1010}, {1018,1,1,1019},
    {1021,3,1,891}, {1024,16,1,1104}, {1040,32,1,1072}, {1120,17,2,1121}, {1162,27,2,1163},
    {1216,1,1,1231}, {1217,7,2,1218}, {1232,48,2,1233}, {1329,38,1,1377}, {4256,38,1,11520},
    {4295,1,1,11559}, {4301,1,1,11565}, {5024,80,1,43888}, {5104,6,1,5112}, {7312,43,1,4304},
    {7357,3,1,4349}, {7680,75,2,7681}, {7838,1,1,223}, {7840,48,2,7841}, {7944,8,1,7936},
    {7960,6,1,7952}, {7976,8,1,7968}, {7992,8,1,7984}, {8008,6,1,8000}, {8025,4,2,8017},
    {8040,8,1,8032}, {8072,8,1,8064}, {8088,8,1,8080}, {8104,8,1,8096}, {8120,2,1,8112},
    {8122,2,1,8048}, {8124,1,1,8115}, {8136,4,1,8050}, {8140,1,1,8131}, {8152,2,1,8144},
    {8154,2,1,8054}, {8168,2,1,8160}, {8170,2,1,8058}, {8172,1,1,8165}, {8184,2,1,8056},
    {8186,2,1,8060}, {8188,1,1,8179}, {8486,1,1,969}, {8490,1,1,107}, {8491,1,1,229},
    {8498,1,1,8526}, {8544,16,1,8560}, {8579,1,1,8580}, {9398,26,1,9424}, {11264,48,1,11312},
    {11360,1,1,11361}, {11362,1,1,619}, {11363,1,1,7549}, {11364,1,1,637}, {11367,3,2,11368},
    {11373,1,1,593}, {11374,1,1,625}, {11375,1,1,592}, {11376,1,1,594}, {11378,1,1,11379},
    {11381,1,1,11382}, {11390,2,1,575}, {11392,50,2,11393}, {11499,2,2,11500}, {11506,1,1,11507},
    {42560,23,2,42561}, {42624,14,2,42625}, {42786,7,2,42787}, {42802,31,2,42803},
    {42873,2,2,42874}, {42877,1,1,7545}, {42878,5,2,42879}, {42891,1,1,42892}, {42893,1,1,613},
    {42896,2,2,42897}, {42902,10,2,42903}, {42922,1,1,614}, {42923,1,1,604}, {42924,1,1,609},
    {42925,1,1,620}, {42926,1,1,618}, {42928,1,1,670}, {42929,1,1,647}, {42930,1,1,669},
    {42931,1,1,43859}, {42932,8,2,42933}, {42948,1,1,42900}, {42949,1,1,642}, {42950,1,1,7566},
    {42951,2,2,42952}, {42960,1,1,42961}, {42966,2,2,42967}, {42997,1,1,42998}, {65313,26,1,65345},
    {66560,40,1,66600}, {66736,36,1,66776}, {66928,11,1,66967}, {66940,15,1,66979},
    {66956,7,1,66995}, {66964,2,1,67003}, {68736,51,1,68800}, {71840,32,1,71872},
    {93760,32,1,93792}, {125184,34,1,125218},
};

/* The code point at text[0..bytes), bytes > 0, and how many bytes it takes; a byte that is not part
   of valid UTF-8 (overlong forms and surrogates are not) is FT__INVALID and takes one. */
static uint32_t ft__utf8_read(const char *text, size_t bytes, int *taken)
{
    const unsigned char *at = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int count = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3
        : at[0] < 0xf5 ? 4 : 0, i;
    uint32_t code = count == 1 ? at[0] : at[0] & (0x7fu >> count);
    *taken = 1;
    if (count == 0 || (size_t)count > bytes) return FT__INVALID;
    for (i = 1; i < count; ++i) {
        if ((at[i] & 0xc0) != 0x80) return FT__INVALID;
        code = code << 6 | (at[i] & 0x3fu);
    }
    if (code < least[count] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return FT__INVALID;
    *taken = count;
    return code;
}

static int ft__utf8_write(uint32_t code, char to[4]) /* how many bytes */
{
    int count = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4, i;
    for (i = count - 1; i > 0; --i, code >>= 6) to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)(count == 1 ? code : (0xf00u >> count & 0xff) | code);
    return count;
}

static bool ft__utf8_valid(const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken)
        if (ft__utf8_read(text, bytes, &taken) == FT__INVALID && taken == 1) return false;
    return true;
}

static int ft__unicode_class(uint32_t code)
{
    int low = 0, high = (int)(sizeof ft__unicode_classes / sizeof ft__unicode_classes[0]);
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (ft__unicode_classes[middle] >> 3 <= code) low = middle;
        else high = middle;
    }
    return (int)(ft__unicode_classes[low] & 7);
}

/* Unicode's White_Space. */
static bool ft__unicode_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xa0
        || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028
        || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

static uint32_t ft__unicode_map(uint32_t code, const ft__unicode_run *runs, int count)
{
    int low = 0, high = count;
    const ft__unicode_run *run;
    uint32_t at;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (runs[middle].from <= code) low = middle;
        else high = middle;
    }
    run = &runs[low];
    if (code < run->from || (code - run->from) % run->step != 0) return code;
    at = (code - run->from) / run->step;
    if (at >= run->count) return code;
    return runs == ft__unicode_bases ? run->to : run->to + at * run->step;
}

static uint32_t ft__unicode_to_lower(uint32_t code)
{
    if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
    return ft__unicode_map(code, ft__unicode_lower,
                           (int)(sizeof ft__unicode_lower / sizeof ft__unicode_lower[0]));
}

/* The letter without its accents, as canonical decomposition and leaving the marks out give it. A
   Hangul syllable becomes its two or three letters (the Unicode Standard, 3.12). How many. */
static int ft__unicode_base(uint32_t code, uint32_t to[3])
{
    to[0] = code;
    if (code < 0xc0) return 1;
    if (code >= 0xac00 && code < 0xd7a4) {
        uint32_t syllable = code - 0xac00;
        to[0] = 0x1100 + syllable / 588;
        to[1] = 0x1161 + syllable % 588 / 28;
        to[2] = 0x11a7 + syllable % 28;
        return syllable % 28 ? 3 : 2;
    }
    to[0] = ft__unicode_map(code, ft__unicode_bases,
                            (int)(sizeof ft__unicode_bases / sizeof ft__unicode_bases[0]));
    return ft__unicode_class(to[0]) == FT__MARK ? 0 : 1;
}

/* Chinese, Japanese and Korean ideographs, which BERT reads one by one. */
static bool ft__unicode_ideograph(uint32_t code)
{
    return (code >= 0x3400 && code <= 0x4dbf) || (code >= 0x4e00 && code <= 0x9fff)
        || (code >= 0xf900 && code <= 0xfaff) || (code >= 0x20000 && code <= 0x2a6df)
        || (code >= 0x2a700 && code <= 0x2b81f) || (code >= 0x2b920 && code <= 0x2ceaf)
        || (code >= 0x2f800 && code <= 0x2fa1f);
}

/* =============================================================================================
   [SECTION] 12.7 Tokenisers
   A tokeniser turns a text into the ids of its pieces, and back. Five kinds:
     characters    a character is a piece
     words         BERT's basic tokeniser, or what stands between spaces; rare words are <unk>
     WordPiece     BERT's basic tokeniser, then each word as the longest pieces from the left (Wu et
                   al. 2016; Devlin et al. 2018)
     byte BPE      the text's bytes, then pairs merged in the order of their ranks, inside of what
                   GPT-2's pattern takes for words (Sennrich et al. 2016; Radford et al. 2019)
     scored BPE    characters, or bytes where a character is no piece, then pairs merged, the
                   highest score first (SentencePiece's BPE as llama2.c reads it)
   All take time in proportion to n log n, whatever the text is. A text is only text: "[SEP]" in it
   is five characters, never the piece that ends a sentence.
   ============================================================================================= */

/* ---- Vocabulary: pieces, their ids, and a table that finds them ---- */
typedef struct ft__vocabulary {
    ft__context *context;
    ft__text letters;       /* all pieces, a 0 behind each */
    size_t *start;          /* [count + 1]: of each piece in letters */
    int count, capacity;
    int *table;             /* [slots]: id + 1; 0: free. A power of two, at least half free */
    size_t slots;
} ft__vocabulary;

static const char *ft__piece_text(const ft__vocabulary *v, int id)
{
    return v->letters.letters + v->start[id];
}

static size_t ft__piece_bytes(const ft__vocabulary *v, int id)
{
    return v->start[id + 1] - v->start[id] - 1;
}

static size_t ft__vocabulary_slot(const ft__vocabulary *v, const char *bytes, size_t count)
{
    size_t slot = (size_t)ft__hash_bytes(1, bytes, count) & (v->slots - 1);
    while (v->table[slot]) {
        int id = v->table[slot] - 1;
        if (ft__piece_bytes(v, id) == count && memcmp(ft__piece_text(v, id), bytes, count) == 0)
            break;
        slot = (slot + 1) & (v->slots - 1);
    }
    return slot;
}

static int ft__vocabulary_find(const ft__vocabulary *v, const char *bytes, size_t count)
{
    return v->slots ? v->table[ft__vocabulary_slot(v, bytes, count)] - 1 : -1;
}

static void ft__vocabulary_grow(ft__vocabulary *v)
{
    ft__context *c = v->context;
    size_t slots = v->slots ? 2 * v->slots : 1024;
    size_t *start;
    int id;
    if (v->count + 1 < v->capacity && 2 * ((size_t)v->count + 1) < v->slots) return;
    start = (size_t *)ft__grow(c, v->start, v->start ? (size_t)v->count + 1 : 0, slots / 2 + 1,
                               sizeof *start);
    if (!start) return;
    v->start = start;
    v->capacity = (int)(slots / 2);
    ft__release(c, v->table);
    v->slots = 0;
    v->table = (int *)ft__allocate(c, slots, sizeof *v->table);
    if (!v->table) return;
    v->slots = slots;
    for (id = 0; id < v->count; ++id) {
        size_t bytes = ft__piece_bytes(v, id);
        if (bytes > 0) v->table[ft__vocabulary_slot(v, ft__piece_text(v, id), bytes)] = id + 1;
    }
}

/* A new piece behind the others, which takes the place of an equal one in the table. An empty one
   has an id but cannot be found. */
static void ft__vocabulary_add(ft__vocabulary *v, const char *bytes, size_t count)
{
    ft__context *c = v->context;
    if (v->count >= 1 << 26) ft__fail(c, FT_FORMAT, "a vocabulary of more than %d pieces", 1 << 26);
    if (ft__ok(c)) ft__vocabulary_grow(v);
    ft__text_add_bytes(&v->letters, bytes, count);
    ft__text_add_bytes(&v->letters, "", 1);
    if (!ft__ok(c)) return;
    v->count += 1;
    v->start[v->count] = v->letters.count;
    if (count > 0) v->table[ft__vocabulary_slot(v, bytes, count)] = v->count;
}

static void ft__vocabulary_release(ft__vocabulary *v)
{
    ft__release(v->context, v->table);
    ft__release(v->context, v->start);
    ft__release(v->context, v->letters.letters);
}

/* ---- The tokeniser ---- */
typedef struct ft__ids { ft__context *context; int32_t *values; size_t count, capacity; } ft__ids;

static void ft__ids_add(ft__ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = 2 * ids->capacity + 256;
        int32_t *grown = (int32_t *)ft__grow(ids->context, ids->values, ids->count, capacity,
                                             sizeof *grown);
        if (!grown) return;
        ids->values = grown;
        ids->capacity = capacity;
    }
    ids->values[ids->count++] = id;
}

typedef struct ft__merge { int left, right, priority, result; } ft__merge; /* result < 0: free */
typedef struct ft__symbol { int id, previous, next; } ft__symbol; /* -1: none; id < 0: merged */
typedef struct ft__candidate { int priority, at, left, right, result; } ft__candidate;

enum { FT__MOST_AROUND = 4 };

struct ft_tokenizer {
    ft_model *model;
    ft_tokenizer *next;     /* in the model's list */
    ft_tokenizer_kind kind;
    ft__vocabulary pieces;
    size_t longest_piece;   /* in bytes */
    char *special;          /* [pieces]: 1 for what stands for no text, as [SEP] */
    int unknown, padding, begin, end;       /* ids; -1: there is none */
    int before[FT__MOST_AROUND], before_count; /* ids put before a text on request ... */
    int after[FT__MOST_AROUND], after_count;   /* ... and behind it */
    /* Words and WordPiece: */
    bool lower, strip_accents, split_ideographs, clean, spaces_only;
    int longest_word;       /* in characters: longer ones are unknown */
    char prefix[16];        /* of pieces that go on a word: "##" */
    /* Both kinds of BPE: */
    bool space_first;       /* a space is put before the text */
    int byte_id[256];       /* the piece of a byte; -1: none */
    ft__merge *merges;      /* a table by (left, right) */
    size_t merge_slots;
    int merge_count;
    int *merge_order;       /* [2 * merge_count]: left and right by rank, for the model file */
    float *scores;          /* [pieces] of scored BPE */
    int *priority;          /* [pieces] of scored BPE: 0 for the highest score */
    /* Work, kept from call to call: */
    ft__ids ids;
    ft__text text, word;
    ft__symbol *symbols;
    size_t symbol_capacity;
    ft__candidate *heap;
    size_t heap_count, heap_capacity;
};

static bool ft__is_special(const ft_tokenizer *t, int id) { return t->special && t->special[id]; }

/* ---- BERT's basic tokeniser ----
   Control characters are left out, ideographs stand alone, accents go, letters become small; then
   words end at spaces, and punctuation stands alone. */
static void ft__emit_word(ft_tokenizer *t, void (*each)(ft_tokenizer *, const char *, size_t))
{
    if (t->word.count > 0) each(t, t->word.letters, t->word.count);
    t->word.count = 0;
}

static void ft__basic_letter(ft_tokenizer *t, uint32_t code,
                             void (*each)(ft_tokenizer *, const char *, size_t))
{
    char bytes[4];
    int count = ft__utf8_write(code, bytes);
    bool alone = !t->spaces_only && (code < 0x80
        ? code > ' ' && code < 0x7f && !(code >= '0' && code <= '9')
          && !((code | 32) >= 'a' && (code | 32) <= 'z')
        : ft__unicode_class(code) == FT__PUNCTUATION);
    if (ft__unicode_space(code) || alone) ft__emit_word(t, each);
    if (ft__unicode_space(code)) return;
    ft__text_add_bytes(&t->word, bytes, (size_t)count);
    if (alone) ft__emit_word(t, each);
}

static void ft__basic_words(ft_tokenizer *t, const char *text, size_t bytes,
                            void (*each)(ft_tokenizer *, const char *, size_t))
{
    int taken, i;
    t->word.count = 0;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(text, bytes, &taken), letters[3] = {0, 0, 0};
        int count = 1;
        bool ideograph;
        if (t->clean && (code == 0 || code == FT__INVALID || (ft__unicode_class(code) == FT__CONTROL
            && code != '\t' && code != '\n' && code != '\r'))) continue;
        ideograph = t->split_ideographs && ft__unicode_ideograph(code);
        if (ideograph) ft__emit_word(t, each);
        letters[0] = code;
        if (t->strip_accents) count = ft__unicode_base(code, letters);
        for (i = 0; i < count; ++i) {
            if (t->lower && letters[i] == 0x130) { /* the only one that becomes two: i and a dot */
                ft__basic_letter(t, 'i', each);
                letters[i] = 0x307;
            } else if (t->lower) letters[i] = ft__unicode_to_lower(letters[i]);
            ft__basic_letter(t, letters[i], each);
        }
        if (ideograph) ft__emit_word(t, each);
    }
    ft__emit_word(t, each);
}

static void ft__whole_word(ft_tokenizer *t, const char *word, size_t bytes)
{
    int id = ft__vocabulary_find(&t->pieces, word, bytes);
    if (id < 0) id = t->unknown;
    if (id >= 0) ft__ids_add(&t->ids, id);
}

/* The longest piece at `word`, not longer than it and than any piece; -1: none. */
static int ft__longest_piece(ft_tokenizer *t, const char *word, size_t bytes, bool first,
                             size_t *taken)
{
    size_t prefix = first ? 0 : strlen(t->prefix), most = t->longest_piece;
    *taken = bytes < most ? bytes : most;
    t->text.count = 0;
    ft__text_add_bytes(&t->text, t->prefix, prefix);
    ft__text_add_bytes(&t->text, word, *taken);
    for (; *taken > 0 && ft__ok(t->ids.context); *taken -= 1) {
        int id = ft__vocabulary_find(&t->pieces, t->text.letters, prefix + *taken);
        if (id >= 0) return id;
    }
    return -1;
}

static void ft__word_pieces(ft_tokenizer *t, const char *word, size_t bytes)
{
    size_t at = 0, before = t->ids.count, taken, i, characters = 0;
    for (i = 0; i < bytes; ++i) characters += ((unsigned char)word[i] & 0xc0) != 0x80;
    if (characters > (size_t)t->longest_word) {
        ft__ids_add(&t->ids, t->unknown);
        return;
    }
    for (; at < bytes; at += taken) {
        int id = ft__longest_piece(t, word + at, bytes - at, at == 0, &taken);
        if (id < 0) { /* a word is known as a whole or not at all */
            t->ids.count = before;
            ft__ids_add(&t->ids, t->unknown);
            return;
        }
        ft__ids_add(&t->ids, id);
    }
}

static void ft__characters(ft_tokenizer *t, const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        ft__utf8_read(text, bytes, &taken);
        ft__whole_word(t, text, (size_t)taken);
    }
}

/* ---- Byte-pair encoding ----
   The symbols of a word are a list; a heap holds the pairs that can be merged, the best first. A
   merge makes two new pairs and leaves old ones in the heap that no longer fit, which are passed
   over when they come up: n symbols take n log n. */
static size_t ft__merge_slot(const ft_tokenizer *t, int left, int right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t slot = (size_t)ft__mix(pair) & (t->merge_slots - 1);
    while (t->merges[slot].result >= 0
           && (t->merges[slot].left != left || t->merges[slot].right != right))
        slot = (slot + 1) & (t->merge_slots - 1);
    return slot;
}

/* The piece that two make when they are joined; -1: none. */
static int ft__joined(ft_tokenizer *t, int left, int right)
{
    const ft__vocabulary *v = &t->pieces;
    t->word.count = 0;
    ft__text_add_bytes(&t->word, ft__piece_text(v, left), ft__piece_bytes(v, left));
    ft__text_add_bytes(&t->word, ft__piece_text(v, right), ft__piece_bytes(v, right));
    return ft__ok(v->context) ? ft__vocabulary_find(v, t->word.letters, t->word.count) : -1;
}

/* What a pair merges into, and how urgent it is (0: most); false: it does not merge. */
static bool ft__merge_of(ft_tokenizer *t, int left, int right, ft__candidate *to)
{
    size_t a = ft__piece_bytes(&t->pieces, left), b = ft__piece_bytes(&t->pieces, right);
    if (t->kind == FT_BYTE_BPE) {
        const ft__merge *merge = t->merge_slots ? &t->merges[ft__merge_slot(t, left, right)] : NULL;
        if (!merge || merge->result < 0) return false;
        to->priority = merge->priority;
        to->result = merge->result;
        return true;
    }
    if (a + b > t->longest_piece) return false;
    to->result = ft__joined(t, left, right);
    if (to->result >= 0) to->priority = t->priority[to->result];
    return to->result >= 0;
}

static bool ft__sooner(const ft__candidate *a, const ft__candidate *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->at < b->at;
}

static void ft__heap_push(ft_tokenizer *t, ft__candidate candidate)
{
    size_t i = t->heap_count;
    if (i == t->heap_capacity) {
        size_t capacity = 2 * t->heap_capacity + 64;
        ft__candidate *grown = (ft__candidate *)ft__grow(t->ids.context, t->heap, i, capacity,
                                                         sizeof *grown);
        if (!grown) return;
        t->heap = grown;
        t->heap_capacity = capacity;
    }
    t->heap_count += 1;
    for (; i > 0 && ft__sooner(&candidate, &t->heap[(i - 1) / 2]); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = candidate;
}

static ft__candidate ft__heap_pop(ft_tokenizer *t)
{
    ft__candidate first = t->heap[0], last = t->heap[--t->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < t->heap_count) {
        if (child + 1 < t->heap_count && ft__sooner(&t->heap[child + 1], &t->heap[child]))
            child += 1;
        if (!ft__sooner(&t->heap[child], &last)) break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    t->heap[i] = last;
    return first;
}

static void ft__push_pair(ft_tokenizer *t, int left)
{
    ft__candidate pair;
    int right = left >= 0 ? t->symbols[left].next : -1;
    if (right < 0) return;
    pair.at = left;
    pair.left = t->symbols[left].id;
    pair.right = t->symbols[right].id;
    if (ft__merge_of(t, pair.left, pair.right, &pair)) ft__heap_push(t, pair);
}

/* Merges symbols[0..count), whose ids are set, and adds what is left to the ids. */
static void ft__merge_symbols(ft_tokenizer *t, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        t->symbols[i].previous = i - 1;
        t->symbols[i].next = i + 1 < count ? i + 1 : -1;
    }
    t->heap_count = 0;
    for (i = 0; i + 1 < count; ++i) ft__push_pair(t, i);
    while (t->heap_count > 0 && ft__ok(t->ids.context)) {
        ft__candidate best = ft__heap_pop(t);
        ft__symbol *left = &t->symbols[best.at], *right;
        if (left->id != best.left || left->next < 0) continue;
        right = &t->symbols[left->next];
        if (right->id != best.right) continue;
        left->id = best.result;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0) t->symbols[right->next].previous = best.at;
        ft__push_pair(t, left->previous);
        ft__push_pair(t, best.at);
    }
    for (i = 0; count > 0 && i >= 0; i = t->symbols[i].next) ft__ids_add(&t->ids, t->symbols[i].id);
}

static bool ft__symbols_fit(ft_tokenizer *t, size_t count)
{
    if (count > INT_MAX / 4) ft__fail(t->ids.context, FT_INVALID, "a text of %zu bytes is too long"
                                      " to be tokenised at once", count);
    if (ft__ok(t->ids.context) && count > t->symbol_capacity) {
        size_t capacity = 2 * count;
        ft__symbol *grown = (ft__symbol *)ft__grow(t->ids.context, t->symbols, 0, capacity,
                                                   sizeof *grown);
        if (grown) {
            t->symbols = grown;
            t->symbol_capacity = capacity;
        }
    }
    return ft__ok(t->ids.context);
}

static void ft__merge_bytes(ft_tokenizer *t, const char *word, size_t bytes)
{
    int count = 0, id;
    size_t i;
    if (!ft__symbols_fit(t, bytes)) return;
    for (i = 0; i < bytes; ++i) {
        id = t->byte_id[(unsigned char)word[i]];
        if (id < 0) id = t->unknown;
        if (id >= 0) t->symbols[count++].id = id;
    }
    ft__merge_symbols(t, count);
}

/* How GPT-2's pattern sees a character: L, N, space, or anything else. */
static int ft__gpt2_class(uint32_t code, int taken)
{
    int k;
    if (code == FT__INVALID && taken == 1) return FT__OTHER;
    if (ft__unicode_space(code)) return FT__CONTROL; /* stands for "space" here */
    k = ft__unicode_class(code);
    return k == FT__LETTER || k == FT__NUMBER ? k : FT__OTHER;
}

static size_t ft__gpt2_run(const char *text, size_t at, size_t bytes, int wanted, size_t *last)
{
    int taken;
    for (*last = at; at < bytes; at += (size_t)taken) {
        uint32_t code = ft__utf8_read(text + at, bytes - at, &taken);
        if (ft__gpt2_class(code, taken) != wanted) break;
        *last = at;
    }
    return at;
}

/* Where the word that begins at `at` ends, as GPT-2's pattern has it:
       's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+               */
static size_t ft__gpt2_word(const char *text, size_t at, size_t bytes)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    size_t i, count, last, end, first = at;
    uint32_t code;
    int taken, k;
    for (i = 0; i < sizeof endings / sizeof endings[0]; ++i) {
        count = strlen(endings[i]);
        if (bytes - at >= count && memcmp(text + at, endings[i], count) == 0) return at + count;
    }
    if (text[at] == ' ' && at + 1 < bytes) first += 1;
    code = ft__utf8_read(text + first, bytes - first, &taken);
    k = ft__gpt2_class(code, taken);
    if (k != FT__CONTROL) return ft__gpt2_run(text, first, bytes, k, &last);
    end = ft__gpt2_run(text, at, bytes, FT__CONTROL, &last);
    return end == bytes || last == at ? end : last; /* the last space belongs to what follows */
}

static void ft__byte_bpe(ft_tokenizer *t, const char *text, size_t bytes)
{
    size_t at, end;
    for (at = 0; at < bytes && ft__ok(t->ids.context); at = end) {
        end = ft__gpt2_word(text, at, bytes);
        ft__merge_bytes(t, text + at, end - at);
    }
}

static void ft__scored_bpe(ft_tokenizer *t, const char *text, size_t bytes)
{
    int count = 0, taken, i;
    if (!ft__symbols_fit(t, bytes)) return;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        int id;
        ft__utf8_read(text, bytes, &taken);
        id = ft__vocabulary_find(&t->pieces, text, (size_t)taken);
        if (id >= 0) t->symbols[count++].id = id;
        else for (i = 0; i < taken; ++i)
            t->symbols[count++].id = t->byte_id[(unsigned char)text[i]];
    }
    ft__merge_symbols(t, count);
}

/* ---- Text to ids ---- */

/* Adds the ids of a text to t->ids. */
static void ft__encode(ft_tokenizer *t, const char *text, size_t bytes)
{
    bool space = t->space_first && bytes > 0 && (t->kind == FT_SCORED_BPE || text[0] != ' ');
    ft__text spaced;
    memset(&spaced, 0, sizeof spaced);
    spaced.context = t->ids.context;
    if (space) {
        ft__text_add_bytes(&spaced, " ", 1);
        ft__text_add_bytes(&spaced, text, bytes);
        text = spaced.letters;
        bytes = spaced.count;
    }
    if (!ft__ok(t->ids.context)) return;
    if (t->kind == FT_CHARACTERS) ft__characters(t, text, bytes);
    else if (t->kind == FT_WORDS) ft__basic_words(t, text, bytes, ft__whole_word);
    else if (t->kind == FT_WORDPIECE) ft__basic_words(t, text, bytes, ft__word_pieces);
    else if (t->kind == FT_BYTE_BPE) ft__byte_bpe(t, text, bytes);
    else ft__scored_bpe(t, text, bytes);
    ft__release(t->ids.context, spaced.letters);
}

/* ---- Ids to text ---- */

/* GPT-2 writes a byte as a character that can be seen: itself where it is one, otherwise the next
   of those from U+0100 on. The unseen bytes are 0..32, 127..160 and 173. */
static uint32_t ft__byte_letter(int byte)
{
    if (byte <= 32) return (uint32_t)(0x100 + byte);
    if (byte >= 127 && byte <= 160) return (uint32_t)(0x100 + 33 + byte - 127);
    return byte == 173 ? 0x100 + 67 : (uint32_t)byte;
}

static int ft__letter_byte(uint32_t code) /* -1: no byte is written so */
{
    int n = code < 0x200 ? (int)code - 0x100 : 68;
    int byte = n < 0 ? (int)code : n < 33 ? n : n < 67 ? n - 33 + 127 : 173;
    return byte < 256 && ft__byte_letter(byte) == code ? byte : -1;
}

static void ft__decode_bytes(ft__text *to, const char *piece, size_t bytes)
{
    int taken, byte;
    char letter;
    for (; bytes > 0; piece += taken, bytes -= (size_t)taken) {
        uint32_t code = ft__utf8_read(piece, bytes, &taken);
        byte = ft__letter_byte(code);
        letter = (char)byte;
        if (byte >= 0) ft__text_add_bytes(to, &letter, 1);
        else ft__text_add_bytes(to, piece, (size_t)taken);
    }
}

/* Adds what a piece says to a text; `first`: nothing was said before it. */
static void ft__decode_piece(const ft_tokenizer *t, int id, bool first, ft__text *to)
{
    const char *piece = ft__piece_text(&t->pieces, id);
    size_t bytes = ft__piece_bytes(&t->pieces, id), prefix = strlen(t->prefix);
    int b;
    if (ft__is_special(t, id)) return;
    if (t->kind == FT_BYTE_BPE) {
        ft__decode_bytes(to, piece, bytes);
        return;
    }
    if (t->kind == FT_WORDPIECE && !first && prefix && bytes >= prefix
        && memcmp(piece, t->prefix, prefix) == 0) {
        piece += prefix;
        bytes -= prefix;
    } else if ((t->kind == FT_WORDS || t->kind == FT_WORDPIECE) && !first)
        ft__text_add_bytes(to, " ", 1);
    if (t->kind == FT_SCORED_BPE) {
        for (b = 0; b < 256 && t->byte_id[b] != id; ++b) {}
        if (b < 256) {
            char letter = (char)b;
            ft__text_add_bytes(to, &letter, 1);
            return;
        }
        if (first && t->space_first && bytes > 0 && piece[0] == ' ') {
            piece += 1;
            bytes -= 1;
        }
    }
    ft__text_add_bytes(to, piece, bytes);
}

static void ft__tokenizer_release(ft_tokenizer *t)
{
    ft__context *c = t->ids.context;
    ft__release(c, t->heap);
    ft__release(c, t->symbols);
    ft__release(c, t->word.letters);
    ft__release(c, t->text.letters);
    ft__release(c, t->ids.values);
    ft__release(c, t->priority);
    ft__release(c, t->scores);
    ft__release(c, t->merge_order);
    ft__release(c, t->merges);
    ft__release(c, t->special);
    ft__vocabulary_release(&t->pieces);
    ft__release(c, t);
}

/* =============================================================================================
   [SECTION] 12.8 Tokeniser files
   Reads the vocabularies that others write, builds one from texts, and keeps a model's own in its
   file. What kind a file is, its content says.
   ============================================================================================= */
static const char *const ft__tokenizer_kinds[] = {"characters", "words", "wordpiece", "byte_bpe",
                                                  "scored_bpe"};
enum { FT__TOKENIZER_KINDS = 5 };

static ft_tokenizer *ft__tokenizer_make(ft_model *m, ft_tokenizer_kind kind)
{
    ft__context *c = &m->context;
    ft_tokenizer *t = (ft_tokenizer *)ft__allocate(c, 1, sizeof *t);
    if (!t) return NULL;
    t->model = m;
    t->kind = kind;
    t->pieces.context = t->pieces.letters.context = c;
    t->ids.context = t->text.context = t->word.context = c;
    t->unknown = t->padding = t->begin = t->end = -1;
    t->longest_word = 100;
    if (kind == FT_WORDPIECE) snprintf(t->prefix, sizeof t->prefix, "##");
    t->lower = t->strip_accents = t->split_ideographs = t->clean = true;
    return t;
}

static int ft__find_piece(const ft_tokenizer *t, const char *text)
{
    return ft__vocabulary_find(&t->pieces, text, strlen(text));
}

static int ft__first_piece(const ft_tokenizer *t, const char *const *names, int count)
{
    int i, id = -1;
    for (i = 0; i < count && id < 0; ++i) id = ft__find_piece(t, names[i]);
    return id;
}

/* Pieces that stand for no text, by the names that they go by. The unknown one is shown. */
static void ft__find_special(ft_tokenizer *t)
{
    static const char *const names[] = {"[PAD]", "<pad>", "[CLS]", "[SEP]", "[MASK]", "<mask>",
                                        "<s>", "</s>", "<eos>", "<|endoftext|>"};
    int i, count = (int)(sizeof names / sizeof names[0]);
    if (t->kind == FT_SCORED_BPE || t->kind == FT_CHARACTERS) return;
    t->padding = ft__first_piece(t, names, 2);
    t->begin = ft__first_piece(t, names + 2, 1);
    if (t->begin < 0) t->begin = ft__find_piece(t, "<s>");
    t->end = ft__find_piece(t, "[SEP]");
    if (t->end < 0) t->end = ft__first_piece(t, names + 7, 3);
    for (i = 0; i < count; ++i) {
        int id = ft__find_piece(t, names[i]);
        if (id >= 0) t->special[id] = 1;
    }
    if (t->unknown >= 0) t->special[t->unknown] = 0;
}

/* Ranks of scored BPE: equal scores have one rank, for then the left pair is first. */
typedef struct ft__by_score { const float *scores; } ft__by_score;

static bool ft__score_less(const void *context, int a, int b)
{
    const float *scores = ((const ft__by_score *)context)->scores;
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
}

static void ft__rank_scores(ft_tokenizer *t)
{
    ft__context *c = t->ids.context;
    int *order = (int *)ft__allocate(c, (size_t)t->pieces.count, sizeof *order), i;
    ft__by_score by;
    t->priority = (int *)ft__allocate(c, (size_t)t->pieces.count, sizeof *t->priority);
    by.scores = t->scores;
    if (order && t->priority) {
        ft__sort_order(order, t->pieces.count, ft__score_less, &by);
        for (i = 1; i < t->pieces.count; ++i)
            t->priority[order[i]] = t->priority[order[i - 1]]
                + (t->scores[order[i]] != t->scores[order[i - 1]]);
    }
    ft__release(c, order);
}

static void ft__find_bytes(ft_tokenizer *t)
{
    int b, count;
    char piece[8];
    for (b = 0; b < 256; ++b) {
        if (t->kind == FT_SCORED_BPE) count = snprintf(piece, sizeof piece, "<0x%02X>", b);
        else count = ft__utf8_write(ft__byte_letter(b), piece);
        t->byte_id[b] = ft__vocabulary_find(&t->pieces, piece, (size_t)count);
        if (t->kind == FT_SCORED_BPE && t->byte_id[b] < 0)
            ft__fail(t->ids.context, FT_FORMAT, "the vocabulary lacks the piece %s of a byte",
                     piece);
    }
}

/* Checks and completes a tokeniser whose pieces are in, and gives it to the model; NULL, and it is
   released, with an error. */
static ft_tokenizer *ft__tokenizer_finish(ft_tokenizer *t, const char *path)
{
    ft__context *c = t->ids.context;
    int id;
    if (ft__ok(c) && t->pieces.count == 0) ft__fail(c, FT_FORMAT, "%s: no pieces", path);
    for (id = 0; ft__ok(c) && id < t->pieces.count; ++id) {
        size_t bytes = ft__piece_bytes(&t->pieces, id);
        if (bytes > t->longest_piece) t->longest_piece = bytes;
        if (!ft__utf8_valid(ft__piece_text(&t->pieces, id), bytes)
            || strlen(ft__piece_text(&t->pieces, id)) != bytes)
            ft__fail(c, FT_FORMAT, "%s: piece %d is not UTF-8 text", path, id);
    }
    if (ft__ok(c) && (t->kind == FT_WORDPIECE || t->kind == FT_WORDS) && t->unknown < 0)
        ft__fail(c, FT_FORMAT, "%s: there is no piece for unknown words", path);
    if (ft__ok(c) && !t->special) t->special = (char *)ft__allocate(c, (size_t)t->pieces.count, 1);
    if (ft__ok(c)) ft__find_special(t);
    if (ft__ok(c) && (t->kind == FT_BYTE_BPE || t->kind == FT_SCORED_BPE)) ft__find_bytes(t);
    if (ft__ok(c) && t->kind == FT_SCORED_BPE) ft__rank_scores(t);
    if (!ft__ok(c)) {
        ft__tokenizer_release(t);
        return NULL;
    }
    t->next = t->model->tokenizers;
    t->model->tokenizers = t;
    return t;
}

/* ---- Merges of byte BPE ---- */
static void ft__merges_reserve(ft_tokenizer *t, int most)
{
    size_t slots = 8, i;
    while (slots < 2 * (size_t)most + 2) slots *= 2;
    t->merges = (ft__merge *)ft__allocate(t->ids.context, slots, sizeof *t->merges);
    t->merge_order = (int *)ft__allocate(t->ids.context, 2 * (size_t)most + 1, sizeof(int));
    for (i = 0; t->merges && i < slots; ++i) t->merges[i].result = -1;
    if (t->merges) t->merge_slots = slots;
}

static void ft__merge_add(ft_tokenizer *t, int left, int right, const char *path)
{
    ft__context *c = t->ids.context;
    ft__merge *merge;
    int result;
    if (!ft__ok(c)) return;
    result = left >= 0 && right >= 0 ? ft__joined(t, left, right) : -1;
    if (result < 0) {
        ft__fail(c, FT_FORMAT, "%s: merge %d: it, or what it makes, is not in the vocabulary", path,
                 t->merge_count);
        return;
    }
    merge = &t->merges[ft__merge_slot(t, left, right)];
    merge->left = left;
    merge->right = right;
    merge->priority = t->merge_count;
    merge->result = result;
    t->merge_order[2 * t->merge_count] = left;
    t->merge_order[2 * t->merge_count + 1] = right;
    t->merge_count += 1;
}

/* "left right" */
static void ft__merge_add_text(ft_tokenizer *t, const char *text, size_t bytes, const char *path)
{
    const char *space = (const char *)memchr(text, ' ', bytes);
    size_t left = space ? (size_t)(space - text) : 0;
    if (!space) {
        ft__fail(t->ids.context, FT_FORMAT, "%s: merge %d is not two pieces with a space between",
                 path, t->merge_count);
        return;
    }
    ft__merge_add(t, ft__vocabulary_find(&t->pieces, text, left),
                  ft__vocabulary_find(&t->pieces, space + 1, bytes - left - 1), path);
}

/* The next line of a text, without its end; *at moves behind it. False: that was the last. */
static bool ft__next_line(const char *text, size_t bytes, size_t *at, const char **line,
                          size_t *count)
{
    const char *end;
    if (*at >= bytes) return false;
    *line = text + *at;
    end = (const char *)memchr(*line, '\n', bytes - *at);
    *count = end ? (size_t)(end - *line) : bytes - *at;
    *at += *count + 1;
    if (*count > 0 && (*line)[*count - 1] == '\r') *count -= 1;
    return true;
}

static void ft__read_merges(ft_tokenizer *t, const char *text, size_t bytes, const char *path)
{
    const char *line;
    size_t at = 0, count;
    int lines = 0;
    while (ft__next_line(text, bytes, &at, &line, &count)) lines += 1;
    ft__merges_reserve(t, lines);
    for (at = 0; ft__next_line(text, bytes, &at, &line, &count) && ft__ok(t->ids.context);) {
        if (count >= 8 && memcmp(line, "#version", 8) == 0) continue;
        if (count > 0) ft__merge_add_text(t, line, count, path);
    }
}

/* ---- vocab.txt, vocab.json, a list of characters, tok512.bin ---- */
static void ft__read_vocab_lines(ft_tokenizer *t, const char *text, size_t bytes)
{
    const char *line;
    size_t at = 0, count;
    while (ft__next_line(text, bytes, &at, &line, &count) && ft__ok(t->ids.context)) {
        while (count > 0 && (line[count - 1] == ' ' || line[count - 1] == '\t')) count -= 1;
        ft__vocabulary_add(&t->pieces, line, count);
    }
    t->unknown = ft__find_piece(t, "[UNK]");
    t->before[0] = ft__find_piece(t, "[CLS]");
    t->before_count = t->before[0] >= 0;
    t->after[0] = ft__find_piece(t, "[SEP]");
    t->after_count = t->after[0] >= 0;
}

static void ft__read_characters(ft_tokenizer *t, const ft__json *json, const char *path)
{
    int i;
    for (i = 1; i < json->values[0].next && ft__ok(t->ids.context); i = json->values[i].next) {
        const char *piece = ft__json_string(json, i);
        int taken = 0;
        if (piece && *piece) ft__utf8_read(piece, strlen(piece), &taken);
        if (!piece || !*piece || (piece[taken] && piece[0] != '<'))
            ft__fail(t->ids.context, FT_FORMAT, "%s: entry %d is not one character", path,
                     t->pieces.count);
        else ft__vocabulary_add(&t->pieces, piece, strlen(piece));
    }
    t->unknown = ft__find_piece(t, "<unk>");
}

/* Notes in value_of[id] where the piece of that id stands: {"piece": id, ...} or, with `listed`,
   [{"id": id, "content": "piece"}, ...]. Returns the largest id; value_of may be NULL. */
static int64_t ft__ids_in_json(const ft__json *json, int from, bool listed, int *value_of)
{
    int64_t largest = -1, id;
    int i;
    for (i = from + 1; from >= 0 && i < json->values[from].next; i = json->values[i].next) {
        int value = listed ? ft__json_member(json, i, "id") : i;
        if (!ft__json_int(json, value, &id) || id < 0) return -2;
        if (id > largest) largest = id;
        if (value_of) value_of[id] = i;
    }
    return largest;
}

static void ft__read_vocab_json(ft_tokenizer *t, const ft__json *json, int vocab, int added,
                                const char *path)
{
    ft__context *c = t->ids.context;
    int64_t most = ft__ids_in_json(json, vocab, false, NULL);
    int64_t most_added = ft__ids_in_json(json, added, true, NULL), id;
    int64_t members = ft__json_count(json, vocab) + ft__json_count(json, added);
    int *value_of;
    if (most_added > most) most = most_added;
    if (!ft__json_at(json, vocab, 'o') || most < 0 || most_added == -2
        || most > 2 * members + 1024) {
        ft__fail(c, FT_FORMAT, "%s: a vocabulary is {\"piece\": id, ...} with ids from 0 on", path);
        return;
    }
    value_of = (int *)ft__allocate(c, (size_t)most + 1, sizeof *value_of);
    t->special = (char *)ft__allocate(c, (size_t)most + 1, 1);
    if (ft__ok(c)) {
        ft__ids_in_json(json, vocab, false, value_of);
        ft__ids_in_json(json, added, true, value_of);
    }
    for (id = 0; ft__ok(c) && id <= most; ++id) {
        const ft__json_value *v = &json->values[value_of[id]]; /* 0 is the root: a hole */
        const char *piece = value_of[id] ? v->key : "";
        if (v->kind == 'o' && value_of[id]) {
            piece = ft__json_string(json, ft__json_member(json, value_of[id], "content"));
            t->special[id] = ft__json_true(json, ft__json_member(json, value_of[id], "special"));
        }
        ft__vocabulary_add(&t->pieces, piece ? piece : "", piece ? strlen(piece) : 0);
    }
    ft__release(c, value_of);
}

static int32_t ft__little_int(const unsigned char *at)
{
    return (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16
                     | (uint32_t)at[3] << 24);
}

/* int32 longest piece, then per piece: float32 score, int32 bytes, the bytes. How many; -1: it is
   no such file. With `t`, reads them into it. */
static int ft__read_scored(ft_tokenizer *t, const unsigned char *file, size_t bytes)
{
    size_t at = 4;
    int count = 0;
    if (bytes < 12 || ft__little_int(file) < 1 || ft__little_int(file) > 1 << 16) return -1;
    for (; at < bytes; ++count) {
        int32_t length;
        uint32_t bits;
        if (bytes - at < 8) return -1;
        length = ft__little_int(file + at + 4);
        if (length < 0 || length > 1 << 16 || (size_t)length > bytes - at - 8) return -1;
        if (t) {
            bits = (uint32_t)ft__little_int(file + at);
            memcpy(&t->scores[count], &bits, sizeof bits);
            if (!(fabs((double)t->scores[count]) < 1e30))
                ft__fail(t->ids.context, FT_FORMAT, "piece %d: its score is no number", count);
            ft__vocabulary_add(&t->pieces, (const char *)file + at + 8, (size_t)length);
        }
        at += 8 + (size_t)length;
    }
    return count;
}

static ft_tokenizer *ft__load_scored(ft_model *m, const unsigned char *file, size_t bytes)
{
    int count = ft__read_scored(NULL, file, bytes);
    ft_tokenizer *t = ft__tokenizer_make(m, FT_SCORED_BPE);
    if (!t) return NULL;
    t->scores = (float *)ft__allocate(&m->context, (size_t)count, sizeof *t->scores);
    t->special = (char *)ft__allocate(&m->context, (size_t)count + 3, 1);
    if (!ft__ok(&m->context)) return t;
    ft__read_scored(t, file, bytes);
    memset(t->special + 1, 1, 2);
    t->unknown = 0;
    t->begin = 1;
    t->end = 2;
    t->before[t->before_count++] = t->begin;
    t->space_first = true;
    return t;
}

/* ---- Hugging Face's tokenizer.json ---- */

/* Is the part `key` of the root of this type? An absent one or null is of type "". */
static bool ft__part_is(const ft__json *json, const char *key, const char *type)
{
    int part = ft__json_member(json, 0, key);
    const char *is = ft__json_string(json, ft__json_member(json, part, "type"));
    return strcmp(is ? is : "", type) == 0;
}

static void ft__read_around(ft_tokenizer *t, const ft__json *json, int part)
{
    int list = ft__json_member(json, part, "single"), i;
    int cls = ft__json_member(json, part, "cls"), sep = ft__json_member(json, part, "sep");
    const char *first = ft__json_string(json, ft__json_element(json, cls, 0));
    const char *last = ft__json_string(json, ft__json_element(json, sep, 0));
    bool behind = false;
    if (first) t->before[t->before_count++] = ft__find_piece(t, first);
    if (last) t->after[t->after_count++] = ft__find_piece(t, last);
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        int special = ft__json_member(json, i, "SpecialToken"), *count;
        const char *name = ft__json_string(json, ft__json_member(json, special, "id"));
        behind = behind || ft__json_member(json, i, "Sequence") >= 0;
        count = behind ? &t->after_count : &t->before_count;
        if (!name) continue;
        if (*count < FT__MOST_AROUND)
            (behind ? t->after : t->before)[(*count)++] = ft__find_piece(t, name);
    }
    for (i = 0; i < t->before_count; ++i)
        if (t->before[i] < 0) t->before_count = 0;
    for (i = 0; i < t->after_count; ++i)
        if (t->after[i] < 0) t->after_count = 0;
}

static bool ft__json_says(const ft__json *json, int object, const char *key, bool otherwise)
{
    int value = ft__json_member(json, object, key);
    if (ft__json_at(json, value, 't')) return true;
    return ft__json_at(json, value, 'f') ? false : otherwise;
}

static void ft__read_hf_wordpiece(ft_tokenizer *t, const ft__json *json, int model)
{
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    const char *prefix = ft__json_string(json, ft__json_member(json, model,
                                                               "continuing_subword_prefix"));
    int normalizer = ft__json_member(json, 0, "normalizer");
    int64_t longest = 100;
    ft__json_int(json, ft__json_member(json, model, "max_input_chars_per_word"), &longest);
    t->longest_word = longest < 1 ? 1 : longest > 1 << 20 ? 1 << 20 : (int)longest;
    if (prefix) snprintf(t->prefix, sizeof t->prefix, "%s", prefix);
    t->unknown = ft__find_piece(t, unknown ? unknown : "[UNK]");
    t->lower = ft__json_says(json, normalizer, "lowercase", true);
    t->strip_accents = ft__json_says(json, normalizer, "strip_accents", t->lower);
    t->clean = ft__json_says(json, normalizer, "clean_text", true);
    t->split_ideographs = ft__json_says(json, normalizer, "handle_chinese_chars", true);
}

static void ft__read_hf_bpe(ft_tokenizer *t, const ft__json *json, int model, const char *path)
{
    int merges = ft__json_member(json, model, "merges"), i;
    const char *unknown = ft__json_string(json, ft__json_member(json, model, "unk_token"));
    if (unknown) t->unknown = ft__find_piece(t, unknown);
    t->space_first = ft__json_says(json, ft__json_member(json, 0, "pre_tokenizer"),
                                   "add_prefix_space", true);
    ft__merges_reserve(t, ft__json_count(json, merges));
    for (i = merges + 1; merges >= 0 && i < json->values[merges].next && ft__ok(t->ids.context);
         i = json->values[i].next) {
        const char *text = ft__json_string(json, i);
        const char *left = ft__json_string(json, ft__json_element(json, i, 0));
        const char *right = ft__json_string(json, ft__json_element(json, i, 1));
        if (text) ft__merge_add_text(t, text, strlen(text), path);
        else ft__merge_add(t, left ? ft__find_piece(t, left) : -1,
                           right ? ft__find_piece(t, right) : -1, path);
    }
}

static bool ft__known_post_processor(const ft__json *json)
{
    static const char *const known[] = {"", "ByteLevel", "BertProcessing", "RobertaProcessing",
                                        "TemplateProcessing"};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; ++i)
        if (ft__part_is(json, "post_processor", known[i])) return true;
    return false;
}

static ft_tokenizer *ft__load_hf(ft_model *m, const ft__json *json, const char *path)
{
    ft__context *c = &m->context;
    int model = ft__json_member(json, 0, "model");
    int before = ft__json_member(json, 0, "pre_tokenizer");
    bool words = ft__part_is(json, "pre_tokenizer", "BertPreTokenizer")
        && ft__part_is(json, "normalizer", "BertNormalizer");
    bool bytes = ft__part_is(json, "pre_tokenizer", "ByteLevel")
        && ft__part_is(json, "normalizer", "") && ft__json_says(json, before, "use_regex", true);
    const char *type = ft__json_string(json, ft__json_member(json, model, "type"));
    ft_tokenizer *t;
    if (!type) type = ft__json_member(json, model, "merges") >= 0 ? "BPE" : "WordPiece";
    if (!(words && !strcmp(type, "WordPiece")) && !(bytes && !strcmp(type, "BPE"))) {
        ft__fail(c, FT_UNSUPPORTED, "%s: a tokenizer.json of WordPiece with BERT's normaliser, or"
                 " of BPE on bytes with GPT-2's pattern is expected, not this %s", path, type);
        return NULL;
    }
    if (!ft__known_post_processor(json)) {
        ft__fail(c, FT_UNSUPPORTED, "%s: an unknown post_processor", path);
        return NULL;
    }
    t = ft__tokenizer_make(m, words ? FT_WORDPIECE : FT_BYTE_BPE);
    if (!t) return NULL;
    ft__read_vocab_json(t, json, ft__json_member(json, model, "vocab"),
                        ft__json_member(json, 0, "added_tokens"), path);
    if (!ft__ok(c)) return t;
    if (words) ft__read_hf_wordpiece(t, json, model);
    else ft__read_hf_bpe(t, json, model, path);
    ft__read_around(t, json, ft__json_member(json, 0, "post_processor"));
    return t;
}

/* ---- The model file's own form ---- */
static void ft__write_ids(ft__text *text, const char *key, const int *ids, int count)
{
    int i;
    ft__text_add(text, ",\"%s\":[", key);
    for (i = 0; i < count; ++i) ft__text_add(text, "%s%d", i ? "," : "", ids[i]);
    ft__text_add(text, "]");
}

/* As JSON; released by the caller. NULL with an error. */
static char *ft__tokenizer_text(const ft_tokenizer *t)
{
    ft__text text;
    int id, specials = 0;
    memset(&text, 0, sizeof text);
    text.context = t->ids.context;
    ft__text_add(&text, "{\"kind\":\"%s\",\"lower\":%d,\"strip_accents\":%d,"
                 "\"split_ideographs\":%d,\"clean\":%d,\"spaces_only\":%d,\"longest_word\":%d,"
                 "\"space_first\":%d,\"unknown\":%d,\"begin\":%d,\"end\":%d,\"prefix\":",
                 ft__tokenizer_kinds[t->kind], t->lower, t->strip_accents, t->split_ideographs,
                 t->clean, t->spaces_only, t->longest_word, t->space_first, t->unknown, t->begin,
                 t->end);
    ft__json_add_text(&text, t->prefix);
    ft__write_ids(&text, "before", t->before, t->before_count);
    ft__write_ids(&text, "after", t->after, t->after_count);
    ft__text_add(&text, ",\"special\":[");
    for (id = 0; id < t->pieces.count; ++id) {
        if (!t->special[id]) continue;
        ft__text_add(&text, "%s%d", specials++ ? "," : "", id);
    }
    ft__text_add(&text, "],\"pieces\":[");
    for (id = 0; id < t->pieces.count && ft__ok(t->ids.context); ++id) {
        if (id) ft__text_add(&text, ",");
        ft__json_add_text(&text, ft__piece_text(&t->pieces, id));
    }
    ft__text_add(&text, "]");
    ft__write_ids(&text, "merges", t->merge_order, 2 * t->merge_count);
    if (t->scores) ft__text_add(&text, ",\"scores\":[");
    for (id = 0; t->scores && id < t->pieces.count; ++id) {
        if (id) ft__text_add(&text, ",");
        ft__json_add_float(&text, t->scores[id]);
    }
    ft__text_add(&text, t->scores ? "]}" : "}");
    if (ft__ok(t->ids.context)) return text.letters;
    ft__release(t->ids.context, text.letters);
    return NULL;
}

/* An integer of the root within [least, most]; an error otherwise. */
static int ft__own_number(ft_tokenizer *t, const ft__json *json, int value, int least, int most,
                          const char *path)
{
    int64_t number = INT64_MIN;
    ft__json_int(json, value, &number);
    if (number >= least && number <= most) return (int)number;
    ft__fail(t->ids.context, FT_FORMAT, "%s: a damaged tokeniser", path);
    return least;
}

static int ft__own_ids(ft_tokenizer *t, const ft__json *json, const char *key, int *to, int most,
                       const char *path)
{
    int list = ft__json_member(json, 0, key), count = 0, i;
    for (i = list + 1; list >= 0 && i < json->values[list].next; i = json->values[i].next) {
        int id = ft__own_number(t, json, i, 0, t->pieces.count - 1, path);
        if (count < most && ft__ok(t->ids.context)) to[count++] = id;
    }
    return count;
}

static void ft__own_options(ft_tokenizer *t, const ft__json *json, const char *path)
{
    const char *prefix = ft__json_string(json, ft__json_member(json, 0, "prefix"));
    int last = t->pieces.count - 1;
    const struct { const char *key; bool *to; } switches[] = {
        {"lower", &t->lower}, {"strip_accents", &t->strip_accents}, {"clean", &t->clean},
        {"split_ideographs", &t->split_ideographs}, {"spaces_only", &t->spaces_only},
        {"space_first", &t->space_first}};
    size_t i;
    for (i = 0; i < sizeof switches / sizeof switches[0]; ++i)
        *switches[i].to = ft__own_number(t, json, ft__json_member(json, 0, switches[i].key), 0, 1,
                                         path) == 1;
    snprintf(t->prefix, sizeof t->prefix, "%s", prefix ? prefix : "");
    t->longest_word = ft__own_number(t, json, ft__json_member(json, 0, "longest_word"), 1, 1 << 20,
                                     path);
    t->unknown = ft__own_number(t, json, ft__json_member(json, 0, "unknown"), -1, last, path);
    t->begin = ft__own_number(t, json, ft__json_member(json, 0, "begin"), -1, last, path);
    t->end = ft__own_number(t, json, ft__json_member(json, 0, "end"), -1, last, path);
    t->before_count = ft__own_ids(t, json, "before", t->before, FT__MOST_AROUND, path);
    t->after_count = ft__own_ids(t, json, "after", t->after, FT__MOST_AROUND, path);
}

static void ft__own_lists(ft_tokenizer *t, const ft__json *json, const char *path)
{
    ft__context *c = t->ids.context;
    int scores = ft__json_member(json, 0, "scores"), merges = ft__json_member(json, 0, "merges");
    int count = ft__json_count(json, merges), i, n, *ids;
    ids = (int *)ft__allocate(c, (size_t)(count > t->pieces.count ? count : t->pieces.count),
                              sizeof *ids);
    t->special = (char *)ft__allocate(c, (size_t)t->pieces.count, 1);
    if (t->special && ids) {
        n = ft__own_ids(t, json, "special", ids, t->pieces.count, path);
        for (i = 0; i < n; ++i) t->special[ids[i]] = 1;
        n = ft__own_ids(t, json, "merges", ids, count, path);
        if (n > 1) ft__merges_reserve(t, n / 2);
        for (i = 0; i + 1 < n; i += 2) ft__merge_add(t, ids[i], ids[i + 1], path);
    }
    ft__release(c, ids);
    if (t->kind != FT_SCORED_BPE) return;
    t->scores = (float *)ft__allocate(c, (size_t)t->pieces.count, sizeof *t->scores);
    for (i = scores + 1, n = 0; t->scores && scores >= 0 && i < json->values[scores].next
         && n < t->pieces.count; i = json->values[i].next) {
        double score = 0;
        ft__json_double(json, i, &score);
        t->scores[n++] = (float)score;
    }
}

static ft_tokenizer *ft__load_own(ft_model *m, const ft__json *json, const char *path)
{
    const char *kind = ft__json_string(json, ft__json_member(json, 0, "kind"));
    int pieces = ft__json_member(json, 0, "pieces"), k = 0, i;
    ft_tokenizer *t;
    while (kind && k < FT__TOKENIZER_KINDS && strcmp(kind, ft__tokenizer_kinds[k]) != 0) ++k;
    if (!kind || k == FT__TOKENIZER_KINDS) {
        ft__fail(&m->context, FT_FORMAT, "%s: a tokeniser of an unknown kind", path);
        return NULL;
    }
    t = ft__tokenizer_make(m, (ft_tokenizer_kind)k);
    if (!t) return NULL;
    for (i = pieces + 1; pieces >= 0 && i < json->values[pieces].next && ft__ok(&m->context);
         i = json->values[i].next) {
        const char *piece = ft__json_string(json, i);
        if (piece) ft__vocabulary_add(&t->pieces, piece, strlen(piece));
        else ft__fail(&m->context, FT_FORMAT, "%s: a piece is not text", path);
    }
    if (ft__ok(&m->context)) ft__own_options(t, json, path);
    if (ft__ok(&m->context)) ft__own_lists(t, json, path);
    return t;
}

/* ---- Any file ---- */

/* merges.txt beside vocab.json: the last "vocab.json" of the path becomes "merges.txt". */
static void ft__read_merges_beside(ft_tokenizer *t, const char *path,
                                   const ft_tokenizer_options *options)
{
    ft__context *c = t->ids.context;
    const char *merges = options->merges;
    ft__text beside;
    unsigned char *content;
    size_t bytes;
    if (options->merges_memory) {
        ft__read_merges(t, (const char *)options->merges_memory, options->merges_bytes, "merges");
        return;
    }
    memset(&beside, 0, sizeof beside);
    beside.context = c;
    if (!merges && ft__ends_with(path, "vocab.json")) {
        ft__text_add_bytes(&beside, path, strlen(path) - strlen("vocab.json"));
        ft__text_add_bytes(&beside, "merges.txt", strlen("merges.txt"));
        merges = beside.letters;
    }
    if (!merges) ft__fail(c, FT_INVALID, "%s: a vocabulary of BPE needs its merges.txt", path);
    content = ft__ok(c) ? ft__read_file(c, merges, &bytes) : NULL;
    if (content) ft__read_merges(t, (const char *)content, bytes, merges);
    ft__release(c, content);
    ft__release(c, beside.letters);
}

static ft_tokenizer *ft__load_json_tokenizer(ft_model *m, const ft__json *json, const char *path,
                                             const ft_tokenizer_options *options)
{
    ft_tokenizer *t;
    if (ft__json_at(json, 0, 'a')) {
        t = ft__tokenizer_make(m, FT_CHARACTERS);
        if (t) ft__read_characters(t, json, path);
        return t;
    }
    if (ft__json_member(json, 0, "model") >= 0) return ft__load_hf(m, json, path);
    if (ft__json_string(json, ft__json_member(json, 0, "kind"))) return ft__load_own(m, json, path);
    t = ft__tokenizer_make(m, FT_BYTE_BPE);
    if (t) ft__read_vocab_json(t, json, 0, -1, path);
    if (t && ft__ok(&m->context)) ft__read_merges_beside(t, path, options);
    return t;
}

static ft_tokenizer *ft__tokenizer_read(ft_model *m, const unsigned char *file, size_t bytes,
                                        const char *path, const ft_tokenizer_options *options)
{
    ft__json *json = NULL;
    ft_tokenizer *t = NULL;
    if (bytes > 0 && (file[0] == '{' || file[0] == '['))
        json = ft__json_parse(&m->context, (const char *)file, bytes);
    if (json) t = ft__load_json_tokenizer(m, json, path, options);
    else if (ft__read_scored(NULL, file, bytes) > 0) t = ft__load_scored(m, file, bytes);
    else if ((t = ft__tokenizer_make(m, FT_WORDPIECE)) != NULL) {
        ft__read_vocab_lines(t, (const char *)file, bytes);
        if (ft__ok(&m->context) && t->unknown < 0)
            ft__fail(&m->context, FT_FORMAT, "%s: neither JSON, nor a vocab.txt with a line [UNK],"
                     " nor a tokenizer.bin", path);
        t->lower = t->strip_accents = !options->cased;
    }
    ft__json_free(&m->context, json);
    return t ? ft__tokenizer_finish(t, path) : NULL;
}

ft_tokenizer *ft_tokenizer_load(ft_model *m, const char *path, ft_tokenizer_options options)
{
    ft__context *c;
    unsigned char *content;
    ft_tokenizer *t;
    size_t bytes;
    if (!m || !ft__ok(&m->context)) return NULL;
    c = &m->context;
    if (!path) path = "(memory)";
    if (options.memory)
        return ft__tokenizer_read(m, (const unsigned char *)options.memory, options.bytes, path,
                                  &options);
    content = ft__read_file(c, path, &bytes);
    t = content ? ft__tokenizer_read(m, content, bytes, path, &options) : NULL;
    ft__release(c, content);
    return t;
}

/* ---- A vocabulary from texts ---- */
typedef struct ft__by_count { const ft__vocabulary *pieces; const int32_t *counts; } ft__by_count;

static bool ft__count_less(const void *context, int a, int b)
{
    const ft__by_count *by = (const ft__by_count *)context;
    if (by->counts[a] != by->counts[b]) return by->counts[a] > by->counts[b];
    return strcmp(ft__piece_text(by->pieces, a), ft__piece_text(by->pieces, b)) < 0;
}

/* While the texts are read, `pieces` holds all words, and `ids` how often each was seen. */
static void ft__count_word(ft_tokenizer *t, const char *word, size_t bytes)
{
    int id = ft__vocabulary_find(&t->pieces, word, bytes);
    if (id >= 0) {
        t->ids.values[id] += 1;
        return;
    }
    ft__vocabulary_add(&t->pieces, word, bytes);
    ft__ids_add(&t->ids, 1);
}

static void ft__count_characters(ft_tokenizer *t, const char *text, size_t bytes)
{
    int taken;
    for (; bytes > 0; text += taken, bytes -= (size_t)taken) {
        bool valid = ft__utf8_read(text, bytes, &taken) != FT__INVALID || taken > 1;
        if (valid && *text) ft__count_word(t, text, (size_t)taken);
    }
}

/* Keeps what was seen often enough, the most frequent first, behind the special pieces. */
static void ft__keep_frequent(ft_tokenizer *t, ft_vocabulary_options o)
{
    static const char *const first[] = {"<pad>", "<unk>", "<eos>"};
    ft__context *c = t->ids.context;
    ft__vocabulary all = t->pieces;
    int *order = (int *)ft__allocate(c, (size_t)all.count + 1, sizeof *order), i;
    int most = o.most > 0 ? o.most : INT_MAX, least = o.minimum_count > 0 ? o.minimum_count : 1;
    ft__by_count by;
    memset(&t->pieces, 0, sizeof t->pieces);
    t->pieces.context = t->pieces.letters.context = c;
    by.pieces = &all;
    by.counts = t->ids.values;
    if (order) ft__sort_order(order, all.count, ft__count_less, &by);
    for (i = 0; i < 3 && t->kind == FT_WORDS; ++i)
        ft__vocabulary_add(&t->pieces, first[i], strlen(first[i]));
    for (i = 0; order && i < all.count && t->pieces.count < most; ++i) {
        if (t->ids.values[order[i]] < least) break;
        ft__vocabulary_add(&t->pieces, ft__piece_text(&all, order[i]),
                           ft__piece_bytes(&all, order[i]));
    }
    if (t->kind == FT_WORDS) t->unknown = 1;
    t->ids.count = 0;
    ft__release(c, order);
    ft__vocabulary_release(&all);
}

ft_tokenizer *ft_tokenizer_build(ft_model *m, ft_tokenizer_kind kind, const char *const *texts,
                                 int count, ft_vocabulary_options options)
{
    ft_tokenizer *t;
    int i;
    if (!m || !ft__ok(&m->context)) return NULL;
    if ((kind != FT_CHARACTERS && kind != FT_WORDS) || !texts || count < 1) {
        ft__fail(&m->context, FT_INVALID, "ft_tokenizer_build: FT_CHARACTERS or FT_WORDS, from at"
                 " least one text, is expected");
        return NULL;
    }
    t = ft__tokenizer_make(m, kind);
    if (!t) return NULL;
    t->lower = t->strip_accents = !options.cased;
    t->spaces_only = options.spaces_only;
    for (i = 0; i < count && ft__ok(&m->context); ++i) {
        if (kind == FT_WORDS) ft__basic_words(t, texts[i], strlen(texts[i]), ft__count_word);
        else ft__count_characters(t, texts[i], strlen(texts[i]));
    }
    if (ft__ok(&m->context)) ft__keep_frequent(t, options);
    return ft__tokenizer_finish(t, "texts");
}

void ft_tokenizer_free(ft_tokenizer *t)
{
    ft_tokenizer **link;
    if (!t) return;
    for (link = &t->model->tokenizers; *link; link = &(*link)->next)
        if (*link == t) {
            *link = t->next;
            break;
        }
    if (t->model->tokenizer == t) t->model->tokenizer = NULL;
    ft__tokenizer_release(t);
}

/* ---- Using it ---- */
ft_tokens ft_tokenize(ft_tokenizer *t, const char *text, size_t bytes, ft_tokenize_options options)
{
    ft_tokens tokens = {NULL, 0};
    int i;
    if (!t || !ft__ok(t->ids.context)) return tokens;
    t->ids.count = 0;
    for (i = 0; options.special && i < t->before_count; ++i) ft__ids_add(&t->ids, t->before[i]);
    if (text) ft__encode(t, text, bytes);
    for (i = 0; options.special && i < t->after_count; ++i) ft__ids_add(&t->ids, t->after[i]);
    if (t->ids.count > INT_MAX)
        ft__fail(t->ids.context, FT_INVALID, "more than %d tokens", INT_MAX);
    if (!ft__ok(t->ids.context)) return tokens;
    tokens.ids = t->ids.values;
    tokens.count = (int)t->ids.count;
    return tokens;
}

const char *ft_detokenize(ft_tokenizer *t, const int32_t *ids, int count, size_t *bytes)
{
    bool first = true;
    int i;
    if (bytes) *bytes = 0;
    if (!t || !ft__ok(t->ids.context)) return "";
    t->text.count = 0;
    ft__text_add_bytes(&t->text, "", 0);
    for (i = 0; i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= t->pieces.count) {
            ft__fail(t->ids.context, FT_INVALID, "token %d: the vocabulary has %d pieces",
                     (int)ids[i], t->pieces.count);
            return "";
        }
        ft__decode_piece(t, ids[i], first, &t->text);
        first = first && ft__is_special(t, ids[i]);
    }
    if (!ft__ok(t->ids.context)) return "";
    if (bytes) *bytes = t->text.count;
    return t->text.letters;
}

ft_tokenizer_kind ft_tokenizer_kind_of(const ft_tokenizer *t) { return t->kind; }
int ft_tokenizer_count(const ft_tokenizer *t) { return t ? t->pieces.count : 0; }

const char *ft_tokenizer_piece(const ft_tokenizer *t, int id)
{
    return t && id >= 0 && id < t->pieces.count ? ft__piece_text(&t->pieces, id) : NULL;
}

int ft_tokenizer_find(const ft_tokenizer *t, const char *piece)
{
    return t ? ft__find_piece(t, piece) : -1;
}

ft_status ft_set_tokenizer(ft_model *m, ft_tokenizer *t)
{
    char *text;
    if (!ft__ok(&m->context)) return m->context.status;
    if (t && t->model != m)
        return ft__fail(&m->context, FT_INVALID, "ft_set_tokenizer: it belongs to another model");
    text = t ? ft__tokenizer_text(t) : NULL;
    if (!ft__ok(&m->context)) return m->context.status;
    ft__release(&m->context, m->tokenizer_text);
    m->tokenizer_text = text;
    m->tokenizer = t;
    return FT_OK;
}

ft_tokenizer *ft_get_tokenizer(const ft_model *m) { return m ? m->tokenizer : NULL; }

/* =============================================================================================
   [SECTION] 12.9 Files of rows
   What took long to compute and may be wanted by the next run, in the folder ft_desc.cache: rows
   of numbers under 64-bit keys, hashes of what each was made from. The files are the library's
   own, in the machine's byte order, and hold nothing that could not be made anew: whatever is wrong
   with one (cut, flipped, of another version or network) costs time and a line in the log, and is
   never an error.
       "ftrows1\0"; 0x01020304 and the numbers in a row, uint32 both; kind and a checksum, uint64
       for each row: its key and a checksum of it, uint64 both; its numbers, float32
   ============================================================================================= */
enum { FT__ROWS_HEADER = 32, FT__ROW_HEADER = 16 };

typedef struct ft__row_file {
    ft__context *context;
    char *path, *partial;   /* written aside, then renamed */
    void *file;             /* NULL: not open */
    uint64_t kind;          /* a hash of what all rows were made with */
    size_t row;             /* numbers in a row */
    uint64_t count;         /* rows */
} ft__row_file;

static void ft__rows_header(const ft__row_file *f, unsigned char to[FT__ROWS_HEADER])
{
    uint32_t order = 0x01020304, row = (uint32_t)f->row;
    uint64_t sum;
    memcpy(to, "ftrows1", 8);
    memcpy(to + 8, &order, 4);
    memcpy(to + 12, &row, 4);
    memcpy(to + 16, &f->kind, 8);
    sum = ft__hash_bytes(1, to, 24);
    memcpy(to + 24, &sum, 8);
}

static uint64_t ft__row_sum(const ft__row_file *f, uint64_t key, const float *values)
{
    return ft__hash_bytes(f->kind ^ ft__mix(key), values, f->row * sizeof *values);
}

static uint64_t ft__row_bytes(const ft__row_file *f)
{
    return FT__ROW_HEADER + (uint64_t)f->row * sizeof(float);
}

/* CACHE/NAME-ID.rows, for rows of so many numbers; false with an error when there is no memory. */
static bool ft__rows_make(ft__row_file *f, ft__context *c, const char *name, uint64_t id,
                          uint64_t kind, size_t row)
{
    size_t size = strlen(c->desc.cache) + strlen(name) + 64;
    memset(f, 0, sizeof *f);
    f->context = c;
    f->kind = kind;
    f->row = row;
    f->path = (char *)ft__allocate(c, size, 1);
    f->partial = (char *)ft__allocate(c, size, 1);
    if (!ft__ok(c)) return false;
    snprintf(f->path, size, "%s/%s-%016llx.rows", c->desc.cache, name, (unsigned long long)id);
    snprintf(f->partial, size, "%s.partial", f->path);
    return row <= UINT32_MAX;
}

static void ft__rows_close(ft__row_file *f)
{
    if (f->file) f->context->desc.files.close(f->context->desc.files.user, f->file);
    f->file = NULL;
}

static void ft__rows_free(ft__row_file *f)
{
    if (!f->context) return;
    ft__rows_close(f);
    ft__release(f->context, f->partial);
    ft__release(f->context, f->path);
    memset(f, 0, sizeof *f);
}

/* Opens it for reading; false when there is none, or none that can be trusted. */
static bool ft__rows_open(ft__row_file *f)
{
    const ft_files *files = &f->context->desc.files;
    unsigned char want[FT__ROWS_HEADER], found[FT__ROWS_HEADER];
    int64_t size;
    f->file = files->open(files->user, f->path, false);
    if (!f->file) return false;
    size = files->size(files->user, f->file);
    ft__rows_header(f, want);
    if (size >= FT__ROWS_HEADER
        && files->read(files->user, f->file, 0, found, sizeof found) == sizeof found
        && memcmp(want, found, sizeof want) == 0
        && ((uint64_t)size - FT__ROWS_HEADER) % ft__row_bytes(f) == 0) {
        f->count = ((uint64_t)size - FT__ROWS_HEADER) / ft__row_bytes(f);
        return true;
    }
    ft__log(f->context, "%s: made from something else, or damaged: it is made anew", f->path);
    ft__rows_close(f);
    return false;
}

static bool ft__rows_key(const ft__row_file *f, uint64_t at, uint64_t *key)
{
    const ft_files *files = &f->context->desc.files;
    return files->read(files->user, f->file, FT__ROWS_HEADER + at * ft__row_bytes(f), key,
                       sizeof *key) == sizeof *key;
}

/* Reads the numbers of row `at`; false when they are not those that were written under the key. */
static bool ft__rows_read(const ft__row_file *f, uint64_t at, uint64_t key, float *to)
{
    const ft_files *files = &f->context->desc.files;
    uint64_t start = FT__ROWS_HEADER + at * ft__row_bytes(f), head[2];
    size_t bytes = f->row * sizeof *to;
    return at < f->count && files->read(files->user, f->file, start, head, sizeof head)
                            == sizeof head && head[0] == key
        && files->read(files->user, f->file, start + FT__ROW_HEADER, to, bytes) == bytes
        && head[1] == ft__row_sum(f, key, to);
}

/* Starts a new file aside; false, with a line in the log, when that cannot be. */
static bool ft__rows_create(ft__row_file *f)
{
    const ft_files *files = &f->context->desc.files;
    unsigned char header[FT__ROWS_HEADER];
    f->count = 0;
    f->file = files->open(files->user, f->partial, true);
    ft__rows_header(f, header);
    if (f->file && files->write(files->user, f->file, header, sizeof header) == sizeof header)
        return true;
    ft__log(f->context, "%s: cannot be written: nothing is kept for the next run", f->partial);
    ft__rows_close(f);
    return false;
}

static bool ft__rows_add(ft__row_file *f, uint64_t key, const float *values)
{
    const ft_files *files = &f->context->desc.files;
    uint64_t head[2];
    size_t bytes = f->row * sizeof *values;
    head[0] = key;
    head[1] = ft__row_sum(f, key, values);
    f->count += 1;
    return files->write(files->user, f->file, head, sizeof head) == sizeof head
        && files->write(files->user, f->file, values, bytes) == bytes;
}

/* Ends a new file and puts it in the place of the old one, if all rows were written. */
static bool ft__rows_finish(ft__row_file *f, bool written)
{
    const ft_files *files = &f->context->desc.files;
    written = files->close(files->user, f->file) && written;
    f->file = NULL;
    if (written && files->rename(files->user, f->partial, f->path)) return true;
    files->remove(files->user, f->partial);
    ft__log(f->context, "%s: cannot be written: nothing is kept for the next run", f->path);
    return false;
}

/* ---- Which of the wanted keys a file has: a hash table of them; equal keys in a chain ---- */
typedef struct ft__key_table {
    const uint64_t *keys;   /* [count]; 0: not wanted */
    int *first;             /* [mask + 1], the index of a key plus one */
    int *next;              /* [count], of the same key; -1: none */
    size_t mask;
} ft__key_table;

static void ft__key_table_free(ft__context *c, ft__key_table *table)
{
    ft__release(c, table->next);
    ft__release(c, table->first);
    memset(table, 0, sizeof *table);
}

static size_t ft__key_place(const ft__key_table *table, uint64_t key)
{
    size_t at = (size_t)ft__mix(key) & table->mask;
    while (table->first[at] && table->keys[table->first[at] - 1] != key)
        at = (at + 1) & table->mask;
    return at;
}

static bool ft__key_table_make(ft__context *c, ft__key_table *table, const uint64_t *keys,
                               int count)
{
    size_t size = 16;
    int i;
    memset(table, 0, sizeof *table);
    while (size < 2 * (size_t)count) size *= 2;
    table->keys = keys;
    table->mask = size - 1;
    table->first = (int *)ft__allocate(c, size, sizeof(int));
    table->next = (int *)ft__allocate(c, (size_t)count + 1, sizeof(int));
    for (i = 0; ft__ok(c) && i < count; ++i) {
        size_t at;
        if (!keys[i]) continue;
        at = ft__key_place(table, keys[i]);
        table->next[i] = table->first[at] - 1;
        table->first[at] = i + 1;
    }
    return ft__ok(c);
}

/* The first index with this key, -1: it is not wanted. */
static int ft__key_find(const ft__key_table *table, uint64_t key)
{
    return key ? table->first[ft__key_place(table, key)] - 1 : -1;
}

/* =============================================================================================
   [SECTION] 13 Ready-made networks
   Each with the names that its published weights use. They are built with the public functions, so
   this section is also how to build a network by hand.
   ============================================================================================= */
typedef struct ft__builder {
    ft_model *m;
    ft_network_options o;   /* with defaults filled in */
    int blocks[4];          /* per stage of a ResNet */
    bool bottleneck;
} ft__builder;

/* A row of the table of networks. What several families share is marked FT__UNUSED: a build may
   have left out all that need it. */
typedef struct ft__network ft__network;
struct ft__network {
    const char *name;
    ft_node (*build)(ft__builder *b);
    /* Does the file hold its weights? Then also how many classes, channels, and how wide. */
    bool (*matches)(const ft__network *network, const ft_file *file, const char *rename,
                    ft_network_options *o);
    int classes, image_size;
    bool bottleneck;
    int blocks[4];
};

/* The tensor of a file that goes by this name after renaming; index, or -1. */
static int ft__find_renamed(const ft_file *file, const char *rename, const char *wanted)
{
    char name[512];
    int i;
    for (i = 0; i < ft_file_count(file); ++i) {
        ft__renamed(rename, ft_file_tensor(file, i).name, name, sizeof name);
        if (strcmp(name, wanted) == 0) return i;
    }
    return -1;
}

static int ft__size_in_file(const ft_file *file, const char *rename, const char *name, int d)
{
    int index = ft__find_renamed(file, rename, name);
    ft_tensor_info info = ft_file_tensor(file, index < 0 ? -1 : index);
    return d < info.shape.rank ? info.shape.size[d] : 0;
}

/* Classes and channels by the shapes of a classifier's last and first layer; false: not there. */
static FT__UNUSED bool ft__size_classifier(const ft_file *file, const char *rename,
                                           const char *first, const char *last,
                                           ft_network_options *o)
{
    o->classes = ft__size_in_file(file, rename, last, 0);
    o->channels = ft__size_in_file(file, rename, first, 1);
    return o->classes > 0 && o->channels > 0;
}

/* "prefix.part", in one of a few buffers that the caller lends. */
static FT__UNUSED const char *ft__part(char *buffer, const char *prefix, const char *part)
{
    snprintf(buffer, 128, "%s%s%s", prefix, *prefix ? "." : "", part);
    return buffer;
}

static FT__UNUSED ft_node ft__picture_input(ft__builder *b)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.size[0] = b->o.channels;
    o.size[1] = o.size[2] = b->o.image_size;
    return ft_input(b->m, "input", o);
}

/* Output, labels, loss and preprocessing: what every classifier ends with. */
static FT__UNUSED ft_node ft__classifier(ft__builder *b, ft_node logits, int resize,
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

/* The picture's shorter side before the centre is cut out: 256 for 224, and in that proportion. */
static FT__UNUSED int ft__resize_for(int image_size) { return (image_size * 256 + 112) / 224; }

static FT__UNUSED ft_node ft__relu(ft__builder *b, const char *name, ft_node x)
{
    ft_activation_options none;
    memset(&none, 0, sizeof none);
    return ft_activation(b->m, "relu", name, x, none);
}

/* ---- ResNets: He et al. 2015, with torchvision's names (stride in the 3x3 convolution) ---- */
#ifndef FINETUNE_NO_RESNET
/* Convolution without bias, and the batch norm behind it. */
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

/* Does the file hold a ResNet of just these blocks? */
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
#endif

/* ---- MobileNet v1: Howard et al. 2017; TensorFlow's SAME padding, ReLU6, eps 1e-3 ---- */
#ifndef FINETUNE_NO_MOBILENET

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

/* The widest layer tells the width: floor(floor(1024 w) c / 1024) = floor(c w) for every power of
   two c below 1024, so all narrower layers come out as they are in the file. */
static bool ft__matches_mobilenet(const ft__network *network, const ft_file *file,
                                  const char *rename, ft_network_options *o)
{
    (void)network;
    o->width = (float)ft__size_in_file(file, rename, "features.13.pw_conv.weight", 0) / 1024;
    return o->width > 0 && ft__size_classifier(file, rename, "features.0.conv.weight",
                                               "classifier.weight", o);
}
#endif

/* ---- The small CNN of Keras' tutorials, Keras' initialisers; pixels from -1 to 1, as for
   MobileNet ---- */
#ifndef FINETUNE_NO_KERAS_CNN
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
#endif

/* ---- The table, and recognition ---- */

static const ft__network ft__networks[] = {
#ifndef FINETUNE_NO_RESNET
    {"resnet18", ft__build_resnet, ft__matches_resnet, 1000, 224, false, {2, 2, 2, 2}},
    {"resnet34", ft__build_resnet, ft__matches_resnet, 1000, 224, false, {3, 4, 6, 3}},
    {"resnet50", ft__build_resnet, ft__matches_resnet, 1000, 224, true, {3, 4, 6, 3}},
    {"resnet20", ft__build_cifar_resnet, ft__matches_cifar_resnet, 10, 32, false, {3, 3, 3, 0}},
    {"resnet32", ft__build_cifar_resnet, ft__matches_cifar_resnet, 10, 32, false, {5, 5, 5, 0}},
    {"resnet44", ft__build_cifar_resnet, ft__matches_cifar_resnet, 10, 32, false, {7, 7, 7, 0}},
    {"resnet56", ft__build_cifar_resnet, ft__matches_cifar_resnet, 10, 32, false, {9, 9, 9, 0}},
#endif
#ifndef FINETUNE_NO_MOBILENET
    {"mobilenet_v1", ft__build_mobilenet, ft__matches_mobilenet, 1000, 224, false, {0}},
#endif
#ifndef FINETUNE_NO_KERAS_CNN
    {"keras_cnn", ft__build_keras_cnn, ft__matches_keras_cnn, 10, 32, false, {0}},
#endif
    {NULL, NULL, NULL, 0, 0, false, {0}}}; /* so that it is never empty */

enum { FT__NETWORKS = sizeof ft__networks / sizeof ft__networks[0] - 1 };

static const char *ft__network_names(char *text, size_t size)
{
    size_t at = 0;
    int i;
    for (i = 0; i < FT__NETWORKS && at < size; ++i)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? ", " : "", ft__networks[i].name);
    return text;
}

static const ft__network *ft__network_named(ft_model *m, const char *name)
{
    char names[256];
    int i;
    for (i = 0; i < FT__NETWORKS; ++i)
        if (name && strcmp(ft__networks[i].name, name) == 0) return &ft__networks[i];
    ft__fail(&m->context, FT_INVALID, "%s: no network of this name; there are %s",
             name ? name : "(none)", ft__network_names(names, sizeof names));
    return NULL;
}

/* Half a network is none: after an error takes away what was added. */
static void ft__remove_last_nodes(ft_model *m, int count)
{
    while (m->node_count > count) ft__release_node(&m->context, &m->nodes[--m->node_count]);
    m->version += 1;
}

ft_node ft_network(ft_model *m, const char *name, ft_network_options options)
{
    const ft__network *network = NULL;
    int nodes = m->node_count;
    bool keras = m->keras_initialisers;
    ft_node none = {0}, output, old_output = m->output, old_loss = m->loss;
    ft__builder b;
    if (ft__ok(&m->context)) network = ft__network_named(m, name);
    if (!network) return none;
    memset(&b, 0, sizeof b);
    b.m = m;
    b.o = options;
    if (b.o.classes == 0) b.o.classes = network->classes;
    if (b.o.image_size == 0) b.o.image_size = network->image_size;
    if (b.o.channels == 0) b.o.channels = 3;
    if (b.o.width == 0) b.o.width = 1;
    if (b.o.classes < 1 || b.o.image_size < 1 || b.o.image_size > 1 << 20 || b.o.channels < 1
        || b.o.channels > 4 || !(b.o.width > 0 && b.o.width < 100)) {
        ft__fail(&m->context, FT_INVALID, "%s: %d classes, images of %d pixels, %d channels, width"
                 " %g", name, b.o.classes, b.o.image_size, b.o.channels, (double)b.o.width);
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

/* Which network a weights file holds, by its names and shapes; where *name is given, only how many
   classes and channels, and how wide, if it is that one. */
static ft_status ft__recognise(ft_model *m, ft_file *file, const char *rename, const char **name,
                               ft_network_options *options)
{
    char names[256];
    ft__list first;
    int i;
    if (!ft__ok(&m->context)) return m->context.status;
    for (i = 0; i < FT__NETWORKS; ++i) {
        ft_network_options o = *options;
        if (*name && strcmp(*name, ft__networks[i].name) != 0) continue;
        if (!ft__networks[i].matches(&ft__networks[i], file, rename, &o)) continue;
        *name = ft__networks[i].name;
        *options = o;
        return FT_OK;
    }
    if (*name) return FT_OK; /* loading will list what does not fit */
    memset(&first, 0, sizeof first);
    for (i = 0; i < ft_file_count(file) && i < 4; ++i)
        ft__list_add(&first, ft_file_tensor(file, i).name, "");
    return ft__fail(&m->context, FT_UNSUPPORTED, "%s: not the weights of a network that is known by"
                    " name (%s); it has %d tensors: %s ...", file->path,
                    ft__network_names(names, sizeof names), ft_file_count(file), first.text);
}

/* =============================================================================================
   [SECTION] 14.1 Images
   A picture is rows of 8-bit samples, channels interleaved. It is decoded by stb_image, turned
   into the network's channels, resized exactly as Pillow does it, and cut out as torchvision does
   it; only then do its samples become floats. What is kept in memory between epochs is the resized
   8-bit picture, and augmented views are cut from that one too, so that a view's numbers do not
   depend on whether the picture was kept or decoded again.
   The functions here may run on any thread: they allocate nothing but what stb_image takes from
   malloc, and get their workspaces from the caller.
   ============================================================================================= */
#define FT__MOST_PIXELS ((uint64_t)1 << 27)         /* of a picture; more is not worth its memory */
#define FT__MOST_RESIZED_PIXELS ((uint64_t)1 << 26)
#define FT__MOST_FILE_BYTES ((uint64_t)1 << 28)
#define FT__MOST_SIDE_RATIO 256                     /* longer side / shorter side */

/* ---- Resizing: Pillow's Image.resize (src/libImaging/Resample.c), bit for bit ----
   Each output sample is a weighted mean of the input samples under a filter that is stretched by
   the scale when shrinking (that is the antialiasing). Weights are rounded to 22 fractional bits.
   Rows are resized first, their result rounded to 8 bits, then columns; columns first, since
   Pillow 13, where the height loses more than twice as many samples as the width. */
typedef enum ft__filter { FT__BILINEAR, FT__BICUBIC } ft__filter;

enum { FT__WEIGHT_BITS = 32 - 8 - 2 };

static double ft__filter_support(ft__filter filter) { return filter == FT__BICUBIC ? 2.0 : 1.0; }

static double ft__filter_value(ft__filter filter, double x)
{
    const double a = -0.5; /* Keys 1981 */
    if (x < 0.0) x = -x;
    if (filter == FT__BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* The most input samples that one output sample looks at. */
static int ft__filter_taps(ft__filter filter, int from, int to)
{
    double scale = (double)from / to;
    return (int)ceil(ft__filter_support(filter) * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
}

/* One side's weights: for output i, count[i] of them from weight[i * taps] on, for the input
   samples from first[i] on. */
static void ft__filter_weights(ft__filter filter, int from, int to, int32_t *first,
                               int32_t *count, int32_t *weight)
{
    double scale = (double)from / to, stretch = scale < 1.0 ? 1.0 : scale;
    double support = ft__filter_support(filter) * stretch, shrink = 1.0 / stretch;
    int taps = ft__filter_taps(filter, from, to), i, k;
    for (i = 0; i < to; ++i) {
        double centre = (i + 0.5) * scale, sum = 0.0;
        int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > from) high = from;
        for (k = low; k < high; ++k)
            sum += ft__filter_value(filter, (k - centre + 0.5) * shrink);
        for (k = low; k < high; ++k) {
            double w = ft__filter_value(filter, (k - centre + 0.5) * shrink);
            if (sum != 0.0) w /= sum;
            w *= 1 << FT__WEIGHT_BITS;
            weight[i * taps + k - low] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        first[i] = low;
        count[i] = high - low;
    }
}

/* Bytes that ft__resize needs; never less for a larger input. 0: more than memory can hold. */
static size_t ft__resize_workspace(int channels, int from_width, int from_height, int width,
                                   int height, ft__filter filter)
{
    size_t across, down, rows, columns;
    if (!ft__multiply((size_t)width, (size_t)ft__filter_taps(filter, from_width, width) + 2,
                      &across)) return 0;
    if (!ft__multiply((size_t)height, (size_t)ft__filter_taps(filter, from_height, height) + 2,
                      &down)) return 0;
    if (!ft__multiply((size_t)width * (size_t)channels, (size_t)from_height, &rows)) return 0;
    if (!ft__multiply((size_t)from_width * (size_t)channels, (size_t)height, &columns)) return 0;
    if (columns > rows) rows = columns;
    if (across > SIZE_MAX / 32 || down > SIZE_MAX / 32 || rows > SIZE_MAX / 4) return 0;
    return (across > down ? across : down) * sizeof(int32_t) + rows;
}

static uint8_t ft__weighted(int32_t sum)
{
    sum >>= FT__WEIGHT_BITS; /* arithmetic on every compiler that the library knows */
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void ft__resize_row(const uint8_t *from, int channels, uint8_t *to, int width, int taps,
                           const int32_t *first, const int32_t *count, const int32_t *weight)
{
    const int32_t half = 1 << (FT__WEIGHT_BITS - 1);
    int x, k, c;
    for (x = 0; x < width; ++x) {
        const int32_t *w = weight + (size_t)x * (size_t)taps;
        const uint8_t *at = from + (size_t)first[x] * (size_t)channels;
        int32_t sum[4] = {half, half, half, half};
        if (channels == 3)
            for (k = 0; k < count[x]; ++k, at += 3) {
                sum[0] += at[0] * w[k];
                sum[1] += at[1] * w[k];
                sum[2] += at[2] * w[k];
            }
        else
            for (k = 0; k < count[x]; ++k, at += channels)
                for (c = 0; c < channels; ++c) sum[c] += at[c] * w[k];
        for (c = 0; c < channels; ++c) *to++ = ft__weighted(sum[c]);
    }
}

/* The width of `rows` rows; `weights` has room for width * (taps + 2) numbers. */
static void ft__resize_across(const uint8_t *from, size_t row_bytes, int from_width, int rows,
                              int channels, uint8_t *to, int width, ft__filter filter,
                              int32_t *weights)
{
    int32_t *first = weights, *count = first + width, *weight = count + width;
    int taps = ft__filter_taps(filter, from_width, width), y;
    ft__filter_weights(filter, from_width, width, first, count, weight);
    for (y = 0; y < rows; ++y)
        ft__resize_row(from + (size_t)y * row_bytes, channels,
                       to + (size_t)y * (size_t)width * (size_t)channels, width, taps, first,
                       count, weight);
}

/* One output row from `count` input rows; in pieces, so that the sums stay in registers. */
static void ft__resize_column(const uint8_t *from, size_t row_bytes, size_t bytes, uint8_t *to,
                              int count, const int32_t *weight)
{
    size_t start, j;
    int k;
    for (start = 0; start < bytes; start += 64) {
        size_t piece = bytes - start < 64 ? bytes - start : 64;
        int32_t sum[64];
        for (j = 0; j < 64; ++j) sum[j] = 1 << (FT__WEIGHT_BITS - 1);
        for (k = 0; k < count; ++k) {
            const uint8_t *row = from + (size_t)k * row_bytes + start;
            for (j = 0; j < piece; ++j) sum[j] += row[j] * weight[k];
        }
        for (j = 0; j < piece; ++j) to[start + j] = ft__weighted(sum[j]);
    }
}

/* The height of rows of `bytes` samples. */
static void ft__resize_down(const uint8_t *from, size_t row_bytes, int from_height, size_t bytes,
                            uint8_t *to, int height, ft__filter filter, int32_t *weights)
{
    int32_t *first = weights, *count = first + height, *weight = count + height;
    size_t taps = (size_t)ft__filter_taps(filter, from_height, height);
    int y;
    ft__filter_weights(filter, from_height, height, first, count, weight);
    for (y = 0; y < height; ++y)
        ft__resize_column(from + (size_t)first[y] * row_bytes, row_bytes, bytes,
                          to + (size_t)y * bytes, count[y], weight + (size_t)y * taps);
}

/* 1 to 4 channels; `row_bytes` lie between the rows of `from`, so that it may be a part of a larger
   picture. The workspace is aligned for int32_t. */
static void ft__resize(const uint8_t *from, size_t row_bytes, int from_width, int from_height,
                       int channels, uint8_t *to, int width, int height, ft__filter filter,
                       void *workspace)
{
    size_t across = (size_t)width * ((size_t)ft__filter_taps(filter, from_width, width) + 2);
    size_t down = (size_t)height * ((size_t)ft__filter_taps(filter, from_height, height) + 2);
    size_t bytes = (size_t)width * (size_t)channels;
    size_t from_bytes = (size_t)from_width * (size_t)channels;
    int32_t *weights = (int32_t *)workspace;
    uint8_t *between = (uint8_t *)(weights + (across > down ? across : down));
    bool down_first = from_height > height && from_height - height > 2 * (from_width - width);
    int y;
    if (width == from_width && height == from_height) {
        for (y = 0; y < height; ++y)
            memcpy(to + (size_t)y * bytes, from + (size_t)y * row_bytes, bytes);
    } else if (height == from_height) {
        ft__resize_across(from, row_bytes, from_width, height, channels, to, width, filter,
                          weights);
    } else if (width == from_width) {
        ft__resize_down(from, row_bytes, from_height, bytes, to, height, filter, weights);
    } else if (down_first) {
        ft__resize_down(from, row_bytes, from_height, from_bytes, between, height, filter,
                        weights);
        ft__resize_across(between, from_bytes, from_width, height, channels, to, width, filter,
                          weights);
    } else {
        ft__resize_across(from, row_bytes, from_width, from_height, channels, between, width,
                          filter, weights);
        ft__resize_down(between, bytes, from_height, bytes, to, height, filter, weights);
    }
}

/* ---- Channels ---- */

/* Grey is 1 channel, grey and alpha 2, RGB 3, RGB and alpha 4; alpha is dropped, as Pillow's
   convert("RGB") does. In place when channels do not become more. */
static void ft__convert_channels(const uint8_t *from, int from_channels, size_t pixels,
                                 uint8_t *to, int channels)
{
    bool from_grey = from_channels < 3;
    size_t i;
    for (i = 0; i < pixels; ++i, from += from_channels, to += channels) {
        int r = from[0], g = from_grey ? r : from[1], b = from_grey ? r : from[2];
        if (channels == 1) {
            /* ITU-R 601 luma, in 16 fractional bits as Pillow's convert("L"). */
            to[0] = from_grey ? (uint8_t)r
                              : (uint8_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
            continue;
        }
        to[0] = (uint8_t)r;
        to[1] = (uint8_t)g;
        to[2] = (uint8_t)b;
    }
}

/* ---- Geometry: torchvision's Resize and CenterCrop ---- */
typedef struct ft__geometry {
    int width, height; /* of the resized picture */
    int left, top;     /* of the network's window in it; negative where it is larger */
} ft__geometry;

static int ft__centre(int size, int window)
{
    /* Python's int(round((size - window) / 2.0)): halves go to the even number. */
    int half = (size - window) / 2;
    if (size < window) return -((window - size) / 2);
    return half + ((size - window) % 2 && half % 2 ? 1 : 0);
}

/* False for pictures whose sides the library does not take. */
static bool ft__geometry_of(const ft_preprocessing *p, int width, int height, ft__geometry *g)
{
    int64_t shorter = width < height ? width : height;
    int64_t longer = width < height ? height : width;
    if (shorter < 1 || longer / shorter > FT__MOST_SIDE_RATIO) return false;
    if ((uint64_t)width * (uint64_t)height > FT__MOST_PIXELS) return false;
    g->width = p->width;
    g->height = p->height;
    g->left = g->top = 0;
    if (p->resize <= 0) return true;
    longer = p->resize * longer / shorter;
    if ((uint64_t)longer * (uint64_t)p->resize > FT__MOST_RESIZED_PIXELS) return false;
    g->width = width <= height ? p->resize : (int)longer;
    g->height = width <= height ? (int)longer : p->resize;
    g->left = ft__centre(g->width, p->width);
    g->top = ft__centre(g->height, p->height);
    return true;
}

/* NULL, or what is wrong with the numbers. */
static const char *ft__preprocessing_fault(const ft_preprocessing *p)
{
    if (p->channels != 1 && p->channels != 3) return "channels must be 1 or 3";
    if (p->width < 1 || p->height < 1 || p->width > 16384 || p->height > 16384)
        return "width and height must be 1 to 16384";
    if (p->resize < 0 || p->resize > 16384) return "resize must be 0 to 16384";
    return NULL;
}

/* ---- From samples to the network's numbers ---- */

/* Where position i of a side comes from: itself, or mirrored at the edge (which is not repeated);
   -1 (a zero) when the side is shorter than the window, as CenterCrop pads. */
static int ft__inside(int i, int size, int window)
{
    int period = 2 * (size - 1);
    if (i >= 0 && i < size) return i;
    if (size < window) return -1;
    if (period == 0) return 0;
    i %= period;
    if (i < 0) i += period;
    return i < size ? i : period - i;
}

/* The window at (left, top) of a picture -> [channels, height, width], each sample
   (value / 255 - mean) / std in float, as torchvision's ToTensor and Normalize round it. */
static void ft__window_to_tensor(const ft_preprocessing *p, const uint8_t *picture, int width,
                                 int height, int left, int top, bool flip, float *to)
{
    float table[256];
    int c, x, y, v;
    for (c = 0; c < p->channels; ++c) {
        float mean = p->mean[c], std = p->std[c] != 0.0f ? p->std[c] : 1.0f;
        for (v = 0; v < 256; ++v) table[v] = ((float)v / 255.0f - mean) / std;
        for (y = 0; y < p->height; ++y) {
            int row = ft__inside(top + y, height, p->height);
            const uint8_t *from = picture + (size_t)(row < 0 ? 0 : row) * (size_t)width
                                                * (size_t)p->channels + (size_t)c;
            for (x = 0; x < p->width; ++x) {
                int column = ft__inside(left + (flip ? p->width - 1 - x : x), width, p->width);
                bool outside = row < 0 || column < 0;
                *to++ = table[outside ? 0 : from[column * p->channels]];
            }
        }
    }
}

/* Turns a whole picture into the network's numbers: the plain view. `workspace` is as large as
   ft__pixels_workspace says (0: the picture's sides cannot be taken). */
static size_t ft__pixels_workspace(const ft_preprocessing *p, int width, int height)
{
    ft__geometry g;
    size_t resize, picture;
    if (!ft__geometry_of(p, width, height, &g)) return 0;
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, FT__BILINEAR);
    picture = ((size_t)width * (size_t)height + (size_t)g.width * (size_t)g.height)
              * (size_t)p->channels;
    return resize && resize < SIZE_MAX / 2 ? resize + picture : 0;
}

static void ft__pixels_to_tensor(const ft_preprocessing *p, const uint8_t *pixels, int width,
                                 int height, int channels, void *workspace, float *to)
{
    ft__geometry g;
    size_t resize, count = (size_t)width * (size_t)height;
    uint8_t *converted, *resized;
    if (!ft__geometry_of(p, width, height, &g)) return;
    resize = ft__resize_workspace(p->channels, width, height, g.width, g.height, FT__BILINEAR);
    converted = (uint8_t *)workspace + resize;
    resized = converted + count * (size_t)p->channels;
    ft__convert_channels(pixels, channels, count, converted, p->channels);
    ft__resize(converted, (size_t)width * (size_t)p->channels, width, height, p->channels, resized,
               g.width, g.height, FT__BILINEAR, workspace);
    ft__window_to_tensor(p, resized, g.width, g.height, g.left, g.top, false, to);
}

/* ---- Augmentation: a function of (seed, index, view) alone ---- */
typedef struct ft__view {
    int crop_left, crop_top, crop_width, crop_height; /* of the resized picture; width 0: none */
    int shift_x, shift_y;                             /* of the window, in pixels */
    bool flip;
} ft__view;

/* exp(x) for |x| < 1/2: its series to 12 terms. */
static double ft__small_exp(double x)
{
    double sum = 1.0;
    int i;
    for (i = 12; i > 0; --i) sum = 1.0 + sum * x / i;
    return sum;
}

/* torchvision's RandomResizedCrop.get_params: an area in [scale, 1] of the picture's, an aspect
   ratio between 3/4 and 4/3 evenly on a logarithmic scale; after ten tries that do not fit, the
   largest crop in the middle that does. */
static void ft__draw_crop(float scale, uint64_t key, int width, int height, ft__view *view)
{
    const double log_ratio = 0.28768207245178090; /* log(4/3) */
    double area = (double)width * height;
    int try_number, w, h;
    for (try_number = 0; try_number < 10; ++try_number) {
        uint64_t at = 16 + 4 * (uint64_t)try_number;
        double target = area * (scale + (1.0 - scale) * ft__uniform(key, at));
        double aspect = ft__small_exp(log_ratio * (2.0 * ft__uniform(key, at + 1) - 1.0));
        w = (int)floor(sqrt(target * aspect) + 0.5);
        h = (int)floor(sqrt(target / aspect) + 0.5);
        if (w < 1 || h < 1 || w > width || h > height) continue;
        view->crop_width = w;
        view->crop_height = h;
        view->crop_left = (int)(ft__random(key, at + 2) % (uint64_t)(width - w + 1));
        view->crop_top = (int)(ft__random(key, at + 3) % (uint64_t)(height - h + 1));
        return;
    }
    w = width;
    h = height;
    if (4 * (int64_t)width < 3 * (int64_t)height) h = (int)floor(w / 0.75 + 0.5);
    else if (3 * (int64_t)width > 4 * (int64_t)height) w = (int)floor(h * 4.0 / 3.0 + 0.5);
    view->crop_width = w;
    view->crop_height = h;
    view->crop_left = (width - w) / 2;
    view->crop_top = (height - h) / 2;
}

static int ft__draw_shift(float share, int size, uint64_t key, uint64_t at)
{
    int most = (int)(share * (float)size + 0.5f);
    return most > 0 ? (int)(ft__random(key, at) % (uint64_t)(2 * most + 1)) - most : 0;
}

/* `width` and `height` are the resized picture's. */
static void ft__draw_view(const ft_augmentation *a, const ft_preprocessing *p, uint64_t seed,
                          int index, int view_number, int width, int height, ft__view *view)
{
    uint64_t key = ft__key(seed, (uint64_t)index, (uint64_t)view_number, FT__USE_AUGMENT);
    memset(view, 0, sizeof *view);
    if (view_number == 0) return;
    view->flip = a->flip && ft__uniform(key, 0) < 0.5f;
    view->shift_x = ft__draw_shift(a->shift, p->width, key, 1);
    view->shift_y = ft__draw_shift(a->shift, p->height, key, 2);
    if (a->scale > 0.0f && a->scale < 1.0f) ft__draw_crop(a->scale, key, width, height, view);
}

/* NULL, or what is wrong with the numbers. */
static const char *ft__augmentation_fault(const ft_augmentation *a)
{
    if (!(a->shift >= 0.0f && a->shift <= 1.0f)) return "shift must be 0 to 1";
    if (!(a->scale >= 0.0f && a->scale <= 1.0f)) return "scale must be 0 to 1";
    return NULL;
}

/* Bytes that ft__view_to_tensor needs for pictures whose resized form is at most so large. */
static size_t ft__view_workspace(const ft_preprocessing *p, int width, int height)
{
    size_t resize = ft__resize_workspace(p->channels, width, height, p->width, p->height,
                                         FT__BILINEAR);
    size_t picture = (size_t)p->width * (size_t)p->height * (size_t)p->channels;
    return resize ? resize + picture : 0;
}

/* One view of a resized picture. Shifts past the picture's edge mirror what lies inside it. */
static void ft__view_to_tensor(const ft_preprocessing *p, const uint8_t *picture,
                               const ft__geometry *g, const ft__view *view, void *workspace,
                               float *to)
{
    size_t channels = (size_t)p->channels, row_bytes = (size_t)g->width * channels;
    uint8_t *crop;
    if (view->crop_width == 0) {
        ft__window_to_tensor(p, picture, g->width, g->height, g->left + view->shift_x,
                             g->top + view->shift_y, view->flip, to);
        return;
    }
    crop = (uint8_t *)workspace + ft__resize_workspace(p->channels, view->crop_width,
                                                       view->crop_height, p->width, p->height,
                                                       FT__BILINEAR);
    ft__resize(picture + (size_t)view->crop_top * row_bytes + (size_t)view->crop_left * channels,
               row_bytes, view->crop_width, view->crop_height, p->channels, crop, p->width,
               p->height, FT__BILINEAR, workspace);
    ft__window_to_tensor(p, crop, p->width, p->height, view->shift_x, view->shift_y, view->flip,
                         to);
}

/* ---- Decoding ---- */
typedef struct ft__picture {
    uint8_t *pixels;  /* stb_image's memory: ft__picture_free */
    int width, height, channels;
} ft__picture;

static const char ft__odd_sides[] = "its width or height is not what the library takes";

#ifdef STBI_VERSION
static uint32_t ft__bytes_to_number(const unsigned char *bytes, int count) /* low byte first */
{
    uint32_t number = 0;
    while (count-- > 0) number = number << 8 | bytes[count];
    return number;
}

static const char ft__ends_early[] = "the file ends before the picture does";

/* stb_image gives a picture even when a file ends early, with grey or undefined pixels in the rest
   of it, and its version 2.27 trusts a few numbers that it should not. So files are looked through
   here first. Each function returns NULL for a file that is whole. */

/* A segment of Huffman tables: a byte of kind, 16 counts, as many values; at most 256 of them. */
static bool ft__jpeg_tables(const unsigned char *bytes, size_t count)
{
    size_t at = 0;
    while (at < count) {
        size_t values = 0;
        int i;
        if (count - at < 17) return false;
        for (i = 1; i <= 16; ++i) values += bytes[at + (size_t)i];
        if (values > 256 || values > count - at - 17) return false;
        at += 17 + values;
    }
    return true;
}

/* Segments of stated length, and compressed data in which 0xFF comes before 0, a restart number or
   the next segment, up to the end marker. */
static const char *ft__jpeg_fault(const unsigned char *bytes, size_t count)
{
    size_t at = 2;
    while (at + 1 < count) {
        int marker = bytes[at + 1];
        size_t length;
        if (bytes[at] != 0xFF || marker == 0xFF) {
            at += 1;
            continue;
        }
        if (marker == 0xD9) return NULL;
        at += 2;
        if (marker <= 1 || (marker >= 0xD0 && marker <= 0xD8)) continue;
        if (count - at < 2) break;
        length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2) return "damaged: a segment of no length";
        if (length > count - at) break;
        if (marker == 0xC4 && !ft__jpeg_tables(bytes + at + 2, length - 2))
            return "damaged: a Huffman table";
        at += length;
    }
    return ft__ends_early;
}

static const char *ft__bmp_fault(const unsigned char *bytes, size_t count)
{
    uint64_t width, height, bits, need;
    bool old; /* OS/2's header has shorter fields */
    if (count < 34) return "the file ends inside its header";
    old = ft__bytes_to_number(bytes + 14, 4) == 12;
    width = ft__bytes_to_number(bytes + 18, old ? 2 : 4);
    height = ft__bytes_to_number(bytes + (old ? 20 : 22), old ? 2 : 4);
    bits = ft__bytes_to_number(bytes + (old ? 24 : 28), 2);
    if (!old && height > INT32_MAX) height = ((uint64_t)1 << 32) - height; /* top row first */
    if (width > INT32_MAX || bits > 32) return "damaged header";
    if (!old && bytes[30] != 0 && bytes[30] != 3) return "a compressed BMP";
    need = (width * bits + 31) / 32 * 4; /* bytes of a row */
    if (count < ft__bytes_to_number(bytes + 10, 4)) return ft__ends_early;
    if (need && (count - ft__bytes_to_number(bytes + 10, 4)) / need < height)
        return ft__ends_early;
    return NULL;
}

/* Blocks up to the end of the first picture. */
static const char *ft__gif_fault(const unsigned char *bytes, size_t count)
{
    size_t at = 13;
    if (count > 10 && bytes[10] & 0x80) at += (size_t)3 << ((bytes[10] & 7) + 1);
    while (at < count && bytes[at] != 0x3B) {
        bool picture = bytes[at] == 0x2C;
        if (!picture && bytes[at] != 0x21) return "damaged: an unknown block";
        if (picture) {
            if (at + 9 >= count) break;
            if (bytes[at + 9] & 0x80) at += (size_t)3 << ((bytes[at + 9] & 7) + 1);
            at += 11;
        } else at += 2;
        while (at < count && bytes[at] != 0) at += 1 + (size_t)bytes[at];
        if (at >= count) break;
        if (picture) return NULL;
        at += 1;
    }
    return ft__ends_early;
}

/* P5 or P6, width, height, largest value, one space, then the samples; # starts a comment. */
static const char *ft__pnm_fault(const unsigned char *bytes, size_t count)
{
    uint64_t number[3] = {0, 0, 0}, need;
    size_t at = 2;
    int i;
    for (i = 0; i < 3; ++i) {
        while (at < count && (bytes[at] <= ' ' || bytes[at] == '#'))
            if (bytes[at++] == '#')
                while (at < count && bytes[at] != '\n' && bytes[at] != '\r') ++at;
        if (at >= count || bytes[at] < '0' || bytes[at] > '9') return "damaged header";
        while (at < count && bytes[at] >= '0' && bytes[at] <= '9' && number[i] < INT32_MAX)
            number[i] = number[i] * 10 + (uint64_t)(bytes[at++] - '0');
    }
    if (number[0] - 1 >= FT__MOST_PIXELS || number[1] - 1 >= FT__MOST_PIXELS
        || number[0] * number[1] > FT__MOST_PIXELS) return ft__odd_sides;
    /* stb_image 2.27 reads past its own memory when such samples change their channels. */
    if (number[2] > 255) return "more than 8 bits a sample";
    need = (bytes[1] == '6' ? 3 : 1) * number[0] * number[1];
    return count - at < 1 + need ? ft__ends_early : NULL;
}

static bool ft__starts_with(const unsigned char *bytes, size_t count, const char *start,
                            size_t length)
{
    return count >= length && memcmp(bytes, start, length) == 0;
}

/* Only formats named here reach stb_image: its other readers accept almost anything. */
static char ft__picture_kind(const unsigned char *bytes, size_t count)
{
    if (count == 0) return 0;
    if (ft__starts_with(bytes, count, "\xFF\xD8\xFF", 3)) return 'J';
    if (ft__starts_with(bytes, count, "\x89PNG\r\n\x1A\n", 8)) return 'P';
    if (ft__starts_with(bytes, count, "BM", 2)) return 'B';
    if (ft__starts_with(bytes, count, "GIF8", 4)) return 'G';
    if (ft__starts_with(bytes, count, "P5", 2) || ft__starts_with(bytes, count, "P6", 2))
        return 'N';
    return 0;
}

static const char ft__odd_kind[] = "not a JPEG, PNG, BMP, PPM, PGM or GIF";

static const char *ft__picture_fault(const unsigned char *bytes, size_t count)
{
    char kind = ft__picture_kind(bytes, count);
    if (!kind) return count ? ft__odd_kind : "the file is empty";
    if (kind == 'J') return ft__jpeg_fault(bytes, count);
    if (kind == 'B') return ft__bmp_fault(bytes, count);
    if (kind == 'G') return ft__gif_fault(bytes, count);
    if (kind == 'N') return ft__pnm_fault(bytes, count);
    return NULL; /* stb_image itself finds PNGs that end early */
}

static const char *ft__stb_reason(void)
{
    const char *reason = stbi_failure_reason(); /* a literal of stb_image */
    return reason ? reason : "stb_image cannot read it";
}

static void ft__picture_free(ft__picture *picture)
{
    if (picture->pixels) stbi_image_free(picture->pixels);
    memset(picture, 0, sizeof *picture);
}

/* Encoded bytes -> a picture of `channels` (1 or 3). NULL, or why there is none. */
static const char *ft__decode(const unsigned char *bytes, size_t count, int channels,
                              ft__picture *picture)
{
    const char *fault = ft__picture_fault(bytes, count);
    int width = 0, height = 0, had = 0;
    memset(picture, 0, sizeof *picture);
    if (fault) return fault;
    if (count > FT__MOST_FILE_BYTES) return "the file is too large";
    if (!stbi_info_from_memory(bytes, (int)count, &width, &height, &had)) return ft__stb_reason();
    if (width < 1 || height < 1 || (uint64_t)width * (uint64_t)height > FT__MOST_PIXELS)
        return ft__odd_sides;
    /* stb_image's grey is not Pillow's: colours become grey here. */
    picture->channels = channels == 1 && had < 3 ? 1 : 3;
    picture->pixels = stbi_load_from_memory(bytes, (int)count, &picture->width, &picture->height,
                                            &had, picture->channels);
    if (!picture->pixels) return ft__stb_reason();
    if (picture->width != width || picture->height != height) {
        ft__picture_free(picture);
        return "damaged: its sides are stated twice, and differ";
    }
    if (channels != picture->channels)
        ft__convert_channels(picture->pixels, picture->channels,
                             (size_t)width * (size_t)height, picture->pixels, channels);
    picture->channels = channels;
    return NULL;
}

/* The bytes of a file as stb_image asks for them when it needs only the header. */
typedef struct ft__stream { const ft_files *files; void *file; uint64_t at, bytes; } ft__stream;

static int ft__stream_read(void *user, char *to, int count)
{
    ft__stream *stream = (ft__stream *)user;
    size_t got = count > 0 ? stream->files->read(stream->files->user, stream->file, stream->at, to,
                                                 (size_t)count) : 0;
    stream->at += got;
    return (int)got;
}

static void ft__stream_skip(void *user, int count)
{
    ft__stream *stream = (ft__stream *)user;
    if (count < 0 && stream->at < (uint64_t)-(int64_t)count) stream->at = 0;
    else stream->at += (uint64_t)(int64_t)count;
}

static int ft__stream_end(void *user)
{
    ft__stream *stream = (ft__stream *)user;
    return stream->at >= stream->bytes;
}

/* The sides of a picture, and the bytes of its file. NULL, or why it has none. */
static const char *ft__picture_info(const ft_files *files, const char *path, int *width,
                                    int *height, uint64_t *bytes)
{
    stbi_io_callbacks callbacks = {ft__stream_read, ft__stream_skip, ft__stream_end};
    ft__stream stream;
    const char *fault = NULL;
    unsigned char start[8];
    int64_t size;
    int channels;
    memset(&stream, 0, sizeof stream);
    stream.files = files;
    stream.file = files->open(files->user, path, false);
    if (!stream.file) return "cannot be opened";
    size = files->size(files->user, stream.file);
    *bytes = stream.bytes = size < 0 ? 0 : (uint64_t)size;
    if (size <= 0) fault = size < 0 ? "not a file" : "the file is empty";
    else if ((uint64_t)size > FT__MOST_FILE_BYTES) fault = "the file is too large";
    else if (!ft__picture_kind(start, files->read(files->user, stream.file, 0, start,
                                                  sizeof start))) fault = ft__odd_kind;
    else if (!stbi_info_from_callbacks(&callbacks, &stream, width, height, &channels))
        fault = ft__stb_reason();
    files->close(files->user, stream.file);
    return fault;
}

static const char *ft__decode_missing(void) { return NULL; }
#else
static const char *ft__decode_missing(void)
{
    return "this program reads no picture files: #include <stb/stb_image.h> before the"
           " implementation of finetune.h";
}
static void ft__picture_free(ft__picture *picture) { memset(picture, 0, sizeof *picture); }
static const char *ft__decode(const unsigned char *bytes, size_t count, int channels,
                              ft__picture *picture)
{
    (void)bytes, (void)count, (void)channels, (void)picture;
    return ft__decode_missing();
}
static const char *ft__picture_info(const ft_files *files, const char *path, int *width,
                                    int *height, uint64_t *bytes)
{
    (void)files, (void)path, (void)width, (void)height, (void)bytes;
    return ft__decode_missing();
}
#endif

/* ---- For prediction, on the model's own thread ---- */

/* `what` names the picture in messages. */
static bool ft__pixels_to_input(ft__context *c, const ft_preprocessing *p, const uint8_t *pixels,
                                int width, int height, int channels, const char *what, float *to)
{
    const char *fault = ft__preprocessing_fault(p);
    size_t bytes;
    void *workspace;
    if (!ft__ok(c)) return false;
    if (fault) {
        ft__fail(c, FT_INVALID, "the model's preprocessing: %s (it is %d x %d x %d, resize %d)",
                 fault, p->channels, p->height, p->width, p->resize);
        return false;
    }
    bytes = width > 0 && height > 0 ? ft__pixels_workspace(p, width, height) : 0;
    if (!bytes || channels < 1 || channels > 4 || !pixels) {
        ft__fail(c, FT_INVALID, "%s: %d x %d pixels of %d channels cannot be taken", what, width,
                 height, channels);
        return false;
    }
    workspace = ft__allocate(c, bytes, 1);
    if (!workspace) return false;
    ft__pixels_to_tensor(p, pixels, width, height, channels, workspace, to);
    ft__release(c, workspace);
    return true;
}

static bool ft__encoded_to_input(ft__context *c, const ft_preprocessing *p, const void *bytes,
                                 size_t count, const char *what, float *to)
{
    ft__picture picture;
    const char *fault = ft__preprocessing_fault(p);
    bool done;
    if (!ft__ok(c)) return false;
    if (ft__decode_missing()) {
        ft__fail(c, FT_UNSUPPORTED, "%s: %s", what, ft__decode_missing());
        return false;
    }
    fault = ft__decode((const unsigned char *)bytes, count, fault ? 3 : p->channels, &picture);
    if (fault) {
        ft__fail(c, FT_FORMAT, "%s: cannot be read as a picture: %s", what, fault);
        return false;
    }
    done = ft__pixels_to_input(c, p, picture.pixels, picture.width, picture.height,
                               picture.channels, what, to);
    ft__picture_free(&picture);
    return done;
}

/* =============================================================================================
   [SECTION] 14.2 Data sources
   An ft_data is a source of samples that a model owns. Here are arrays in the caller's memory, the
   split into training and held-back samples, and the loader that fills batches ahead of the
   training step.
   ============================================================================================= */
typedef struct ft__folder ft__folder;
typedef struct ft__texts ft__texts;

struct ft_data {
    ft_model *model;
    ft_data *next;          /* in the model's list */
    ft_source source;
    ft__folder *folder;     /* NULL: not an image folder */
};

/* ---- Any source ---- */
ft_data *ft_data_source(ft_model *m, ft_source source)
{
    ft_data *data;
    if (!m || !ft__ok(&m->context)) return NULL;
    if (!source.get || source.count < 1 || source.classes < 0) {
        ft__fail(&m->context, FT_INVALID, "a data source needs get(), at least one sample (it has"
                 " %d) and no negative number of classes (%d)", source.count, source.classes);
        return NULL;
    }
    data = (ft_data *)ft__allocate(&m->context, 1, sizeof *data);
    if (!data) return NULL;
    data->model = m;
    data->source = source;
    data->next = m->data;
    m->data = data;
    return data;
}

void ft_data_free(ft_data *data)
{
    ft_data **link;
    if (!data) return;
    for (link = &data->model->data; *link; link = &(*link)->next)
        if (*link == data) {
            *link = data->next;
            break;
        }
    if (data->source.release) data->source.release(data->source.user);
    ft__release(&data->model->context, data);
}

int ft_data_count(const ft_data *data) { return data ? data->source.count : 0; }
int ft_data_classes(const ft_data *data) { return data ? data->source.classes : 0; }

const char *ft_data_class_name(const ft_data *data, int c) /* NULL: none */
{
    if (!data || c < 0 || c >= data->source.classes || !data->source.class_name) return NULL;
    return data->source.class_name(data->source.user, c);
}

const char *ft_data_name(const ft_data *data, int index) /* "": none */
{
    const char *name = NULL;
    if (data && index >= 0 && index < data->source.count && data->source.name)
        name = data->source.name(data->source.user, index);
    return name ? name : "";
}

int ft_data_label(const ft_data *data, int index) /* -1: none */
{
    if (!data || index < 0 || index >= data->source.count || !data->source.label) return -1;
    return data->source.label(data->source.user, index);
}

/* ---- Arrays ---- */
typedef struct ft__arrays {
    ft__context *context;
    const float *values;
    const int *labels;      /* or NULL */
    char *input_name, *labels_name;
} ft__arrays;

static bool ft__arrays_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__arrays *arrays = (const ft__arrays *)user;
    int s;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        if (slots[s].type == FT_F32 && !strcmp(slots[s].name, arrays->input_name)) {
            size_t count = ft__shape_count(&slots[s].shape);
            memcpy(slots[s].values, arrays->values + (size_t)index * count,
                   count * sizeof(float));
        } else if (slots[s].type == FT_I32 && !strcmp(slots[s].name, arrays->labels_name)) {
            int32_t label = arrays->labels ? arrays->labels[index] : -1;
            memcpy(slots[s].values, &label, sizeof label);
        }
    }
    return true;
}

static int ft__arrays_label(void *user, int index)
{
    return ((const ft__arrays *)user)->labels[index];
}

static void ft__arrays_release(void *user)
{
    ft__arrays *arrays = (ft__arrays *)user;
    ft__release(arrays->context, arrays->labels_name);
    ft__release(arrays->context, arrays->input_name);
    ft__release(arrays->context, arrays);
}

/* The number of classes; 0 with an error when a label is none. */
static int ft__arrays_classes(ft__context *c, int count, const int *labels, int classes)
{
    int i, most = 0;
    if (!labels) return 0;
    for (i = 0; i < count; ++i) {
        if (labels[i] < 0 || (classes > 0 && labels[i] >= classes) || labels[i] == INT_MAX) {
            ft__fail(c, FT_INVALID, "arrays: labels[%d] is %d, but there are %d classes, from 0 on",
                     i, labels[i], classes);
            return 0;
        }
        if (labels[i] >= most) most = labels[i] + 1;
    }
    return classes > 0 ? classes : most;
}

ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                   ft_array_options options)
{
    ft__context *c;
    ft__arrays *arrays;
    ft_source source;
    ft_data *data;
    if (!m || !ft__ok(&m->context)) return NULL;
    c = &m->context;
    memset(&source, 0, sizeof source);
    if (!values || count < 1 || options.classes < 0) {
        ft__fail(c, FT_INVALID, "arrays: values must not be NULL, count (%d) at least 1, and"
                 " classes (%d) not negative", count, options.classes);
        return NULL;
    }
    source.classes = ft__arrays_classes(c, count, labels, options.classes);
    arrays = (ft__arrays *)ft__allocate(c, 1, sizeof *arrays);
    if (!arrays) return NULL;
    arrays->context = c;
    arrays->values = values;
    arrays->labels = labels;
    arrays->input_name = ft__copy_text(c, options.input ? options.input : "input");
    arrays->labels_name = ft__copy_text(c, options.labels ? options.labels : "labels");
    source.user = arrays;
    source.count = count;
    source.get = ft__arrays_get;
    source.label = labels ? ft__arrays_label : NULL;
    source.release = ft__arrays_release;
    data = ft_data_source(m, source);
    if (!data) ft__arrays_release(arrays);
    return data;
}

/* ---- Split ---- */
typedef struct ft__splitting {
    uint64_t *group;        /* of each sample */
    int *stratum;           /* its class; of a whole group the class of its first sample */
    int *order;             /* of the samples: by stratum, then by group */
    int *start, *drawn;     /* groups of one stratum: where they start in order[], and a drawing */
} ft__splitting;

static bool ft__group_less(const void *context, int a, int b)
{
    const ft__splitting *s = (const ft__splitting *)context;
    if (s->group[a] != s->group[b]) return s->group[a] < s->group[b];
    return a < b;
}

static bool ft__stratum_less(const void *context, int a, int b)
{
    const ft__splitting *s = (const ft__splitting *)context;
    if (s->stratum[a] != s->stratum[b]) return s->stratum[a] < s->stratum[b];
    return ft__group_less(context, a, b);
}

/* Groups of order[first..end), one stratum: some are held back, in a drawn order, each where it
   brings the number held back nearer to the share; never none, never all. */
static void ft__split_stratum(const ft__splitting *s, int first, int end, double share,
                              uint64_t key, int *part)
{
    double target = share * (end - first), held = 0;
    int i, j, groups = 0, taken = 0, smallest = 0;
    for (i = first; i < end; ++i)
        if (i == first || s->group[s->order[i]] != s->group[s->order[i - 1]])
            s->start[groups++] = i;
    s->start[groups] = end;
    if (groups < 2) return;
    ft__shuffle(s->drawn, groups, key);
    for (j = 0; j < groups && taken < groups - 1; ++j) {
        int g = s->drawn[j], size = s->start[g + 1] - s->start[g];
        if (j == 0 || size < s->start[smallest + 1] - s->start[smallest]) smallest = g;
        if (fabs(held + size - target) >= fabs(held - target)) continue;
        for (i = s->start[g]; i < s->start[g + 1]; ++i) part[s->order[i]] = 1;
        held += size;
        taken += 1;
    }
    if (taken == 0)
        for (i = s->start[smallest]; i < s->start[smallest + 1]; ++i) part[s->order[i]] = 1;
}

/* Where groups reach over classes, a class may have been held back as a whole: one of its groups
   returns to training. */
static void ft__split_repair(const ft__splitting *s, const ft_data *data, int *part)
{
    int count = data->source.count, c, i, k;
    for (c = 0; c < data->source.classes; ++c) {
        int held = -1;
        for (i = 0; i < count; ++i) {
            if (ft_data_label(data, i) != c) continue;
            if (part[i] == 0) break;
            if (held < 0) held = i;
        }
        if (i < count || held < 0) continue;
        for (k = 0; k < count; ++k)
            if (s->group[k] == s->group[held]) part[k] = 0;
    }
}

/* part[i] becomes 0 (training) or 1 (held back): about the share `hold_back` of every class, whole
   groups only. Every class keeps a group in training and, where it has two, one held back. */
static bool ft__split(ft_data *data, float hold_back, uint64_t seed, int *part)
{
    ft__context *c = &data->model->context;
    const ft_source *source = &data->source;
    size_t count = (size_t)source->count;
    ft__splitting s;
    int i, first, *work;
    memset(part, 0, count * sizeof *part);
    if (!(hold_back >= 0.0f && hold_back < 1.0f))
        ft__fail(c, FT_INVALID, "hold_back is %g: a share from 0 to below 1 is expected",
                 (double)hold_back);
    if (!ft__ok(c) || hold_back == 0.0f) return ft__ok(c);
    s.group = (uint64_t *)ft__allocate(c, count, sizeof(uint64_t));
    work = (int *)ft__allocate(c, 4 * count + 1, sizeof(int));
    if (work) {
        s.stratum = work;
        s.order = s.stratum + count;
        s.drawn = s.order + count;
        s.start = s.drawn + count;
        for (i = 0; i < source->count; ++i) {
            s.group[i] = source->group ? source->group(source->user, i) : (uint64_t)i;
            s.stratum[i] = source->classes ? ft_data_label(data, i) : 0;
        }
        ft__sort_order(s.order, source->count, ft__group_less, &s);
        for (i = 1; i < source->count; ++i)
            if (s.group[s.order[i]] == s.group[s.order[i - 1]])
                s.stratum[s.order[i]] = s.stratum[s.order[i - 1]];
        ft__sort_order(s.order, source->count, ft__stratum_less, &s);
        for (first = 0, i = 1; i <= source->count; ++i) {
            int stratum = s.stratum[s.order[first]];
            if (i < source->count && s.stratum[s.order[i]] == stratum) continue;
            ft__split_stratum(&s, first, i, (double)hold_back,
                              ft__key(seed, (uint64_t)stratum, 0, FT__USE_SPLIT), part);
            first = i;
        }
        ft__split_repair(&s, data, part);
    }
    ft__release(c, work);
    ft__release(c, s.group);
    return ft__ok(c);
}

/* ---- Loader: fills batches ahead of the step that uses them ----
   A ring of `depth` batches. Samples are taken one by one in their order, by the background threads
   and by the thread that waits for a batch, and each is written to its own place, so what a batch
   holds does not depend on who filled it. */
enum { FT__MOST_SLOTS = 8 };

typedef struct ft__batch {
    int count;              /* samples that could be read; may be 0 */
    int first;              /* position in the order of the first one, and ... */
    int wanted;             /* ... how many were to be read */
    const int *index;       /* [count], of the samples in the data */
    void *values[FT__MOST_SLOTS];    /* per slot: [count, its shape] */
    int *lengths[FT__MOST_SLOTS];    /* per slot: [count], what the source set */
} ft__batch;

typedef struct ft__loader {
    ft__context *context;
    const ft_data *data;
    ft_slot slots[FT__MOST_SLOTS];
    ft_node nodes[FT__MOST_SLOTS];          /* the model's inputs that they are for */
    size_t bytes[FT__MOST_SLOTS];           /* of one sample */
    unsigned char *values[FT__MOST_SLOTS];  /* [depth, batch_size, bytes] */
    int *lengths[FT__MOST_SLOTS];           /* [depth, batch_size] */
    int slot_count, batch_size, depth;
    int length;             /* steps that the slots of sequences have room for */
    int *index;             /* [depth, batch_size] */
    bool *read;             /* [depth, batch_size]: get() said so */
    int *missing;           /* [depth]: samples of this batch that are not done */
    int *order, *views;     /* [samples of the data] */
    int count;              /* of order[], in this run */
    int taken;              /* samples that some thread has begun */
    int running;            /* begun and not done */
    int released;           /* batches that were given back: the number of the next one */
    bool held;              /* the caller has a batch */
    bool quit;
    int skipped;            /* samples left out since ft__loader_start */
    ft__batch batch;
    int thread_count;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t threads[64];
#endif
} ft__loader;

/* Sample i of the order, into its place; without the mutex. */
static void ft__loader_fill(ft__loader *l, int i)
{
    const ft_source *source = &l->data->source;
    ft_slot slots[FT__MOST_SLOTS];
    int row = i % l->batch_size, s;
    int place = i / l->batch_size % l->depth * l->batch_size + row;
    for (s = 0; s < l->slot_count; ++s) {
        slots[s] = l->slots[s];
        slots[s].values = l->values[s] + (size_t)place * l->bytes[s];
        slots[s].length = 0;
        memset(slots[s].values, 0, l->bytes[s]);
    }
    l->read[place] = source->get(source->user, l->order[i], l->views[i], slots, l->slot_count);
    for (s = 0; s < l->slot_count; ++s) l->lengths[s][place] = slots[s].length;
    l->index[place] = l->order[i];
}

static int ft__loader_batch_size(const ft__loader *l, int batch)
{
    int64_t left = (int64_t)l->count - (int64_t)batch * l->batch_size;
    return left < 0 ? 0 : left < l->batch_size ? (int)left : l->batch_size;
}

#ifndef FINETUNE_NO_THREADS
/* Takes the next sample and fills it. The mutex is held on entry and on return. */
static void ft__loader_help(ft__loader *l)
{
    int i = l->taken++;
    l->running += 1;
    pthread_mutex_unlock(&l->mutex);
    ft__loader_fill(l, i);
    pthread_mutex_lock(&l->mutex);
    l->running -= 1;
    if (--l->missing[i / l->batch_size % l->depth] == 0 || l->running == 0)
        pthread_cond_broadcast(&l->done);
}

static void *ft__loader_thread(void *argument)
{
    ft__loader *l = (ft__loader *)argument;
    pthread_mutex_lock(&l->mutex);
    while (!l->quit) {
        if (l->taken < l->count && l->taken / l->batch_size - l->released < l->depth)
            ft__loader_help(l);
        else pthread_cond_wait(&l->work, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}
#endif

/* Ends what is under way; the rest of the order is forgotten. */
static void ft__loader_stop(ft__loader *l)
{
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    l->count = l->taken;
    while (l->running > 0) pthread_cond_wait(&l->done, &l->mutex);
#endif
    l->count = l->taken = l->released = 0;
    l->held = false;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_unlock(&l->mutex);
#endif
}

static void ft__loader_destroy(ft__loader *l)
{
    int i;
    if (!l) return;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (i = 0; i < l->thread_count; ++i) pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->done);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
#endif
    ft__release(l->context, l->views);
    ft__release(l->context, l->order);
    ft__release(l->context, l->missing);
    ft__release(l->context, l->read);
    ft__release(l->context, l->index);
    for (i = l->slot_count - 1; i >= 0; --i) {
        ft__release(l->context, l->lengths[i]);
        ft__release(l->context, l->values[i]);
    }
    ft__release(l->context, l);
}

static void ft__loader_allocate(ft__loader *l)
{
    ft__context *c = l->context;
    size_t places = (size_t)l->depth * (size_t)l->batch_size, all;
    int s;
    for (s = 0; s < l->slot_count; ++s) {
        size_t count = ft__shape_count(&l->slots[s].shape);
        l->bytes[s] = count * (size_t)ft__type_bytes[l->slots[s].type];
        if (count == 0 || !ft__multiply(places, l->bytes[s], &all)) {
            ft__fail(c, FT_SHAPE, "%s: %zu samples of this input do not fit into memory",
                     l->slots[s].name, places);
            return;
        }
        l->values[s] = (unsigned char *)ft__allocate(c, places, l->bytes[s]);
        l->lengths[s] = (int *)ft__allocate(c, places, sizeof(int));
    }
    l->index = (int *)ft__allocate(c, places, sizeof(int));
    l->read = (bool *)ft__allocate(c, places, sizeof(bool));
    l->missing = (int *)ft__allocate(c, (size_t)l->depth, sizeof(int));
    l->order = (int *)ft__allocate(c, (size_t)l->data->source.count, sizeof(int));
    l->views = (int *)ft__allocate(c, (size_t)l->data->source.count, sizeof(int));
}

/* `slots`: name, type and shape of one sample of what is wanted (the names must live as long).
   All memory is taken here. Background threads: as many as the model has, none where that is one or
   where the app brings its own. NULL with an error. */
static ft__loader *ft__loader_make(ft__context *c, const ft_data *data, const ft_slot *slots,
                                   int slot_count, int batch_size, int depth)
{
    ft__loader *l;
    if (!ft__ok(c)) return NULL;
    if (!data || slot_count < 1 || slot_count > FT__MOST_SLOTS || batch_size < 1 || depth < 1
        || batch_size > INT_MAX / depth) {
        ft__fail(c, FT_INVALID, "batches of %d samples with %d tensors each, %d ahead: at least 1"
                 " of each is expected, and at most %d tensors", batch_size, slot_count, depth,
                 (int)FT__MOST_SLOTS);
        return NULL;
    }
    l = (ft__loader *)ft__allocate(c, 1, sizeof *l);
    if (!l) return NULL;
    l->context = c;
    l->data = data;
    memcpy(l->slots, slots, (size_t)slot_count * sizeof *slots);
    l->slot_count = slot_count;
    l->batch_size = batch_size;
    l->depth = depth;
    ft__loader_allocate(l);
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->done, NULL);
    while (ft__ok(c) && c->threads > 1 && !c->desc.parallel_for && l->thread_count < c->threads
           && l->thread_count < 64) {
        if (pthread_create(&l->threads[l->thread_count], NULL, ft__loader_thread, l) != 0) break;
        l->thread_count += 1;
    }
#endif
    if (ft__ok(c)) return l;
    ft__loader_destroy(l);
    return NULL;
}

/* A loader of all inputs of a model. */
static ft__loader *ft__loader_create(ft_model *m, const ft_data *data, int batch_size)
{
    ft_slot slots[FT__MOST_SLOTS];
    ft_node nodes[FT__MOST_SLOTS];
    ft__loader *l;
    int i, d, count = 0;
    memset(slots, 0, sizeof slots);
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        if (node->op != FT__OP_input) continue;
        if (count == FT__MOST_SLOTS) {
            ft__fail(&m->context, FT_UNSUPPORTED, "%s: more than %d inputs", node->name, count);
            return NULL;
        }
        slots[count].name = node->name;
        slots[count].type = node->type;
        slots[count].shape.rank = node->shape.rank - 1; /* without the batch */
        for (d = 1; d < node->shape.rank; ++d)
            slots[count].shape.size[d - 1] = node->shape.size[d] == FT_LENGTH ? m->length
                                                                             : node->shape.size[d];
        nodes[count++].id = i + 1;
    }
    l = ft__loader_make(&m->context, data, slots, count, batch_size, 3);
    if (l) memcpy(l->nodes, nodes, (size_t)count * sizeof *nodes);
    if (l) l->length = m->length;
    return l;
}

/* The steps of the longest sample of a batch, as the source said; else all there is room for. */
static int ft__batch_length(const ft__loader *l, const ft__batch *batch)
{
    int s, i, longest = 0;
    for (s = 0; s < l->slot_count; ++s)
        for (i = 0; i < batch->count; ++i)
            if (batch->lengths[s][i] > longest) longest = batch->lengths[s][i];
    return longest > 0 && longest < l->length ? longest : l->length;
}

/* Copies a batch into the inputs, whose memory was planned for batches of this size. Sequences are
   cut to the run's length, which comes first in their shape. */
static void ft__feed_batch(ft_model *m, const ft__loader *l, const ft__batch *batch)
{
    ft__extent one = {1, 1};
    int s, i;
    m->batch = batch->count;
    m->length = one.length = ft__batch_length(l, batch);
    for (s = 0; s < l->slot_count; ++s) {
        ft__node *node = &m->nodes[l->nodes[s].id - 1];
        const unsigned char *from = (const unsigned char *)batch->values[s];
        size_t row = ft__node_count_at(node, one);
        if (m->length == l->length || !ft__has_length(node)) {
            ft__fill_input(m, node, from, batch->count);
            continue;
        }
        for (i = 0; i < batch->count; ++i)
            memcpy(node->value + (size_t)i * row, from + (size_t)i * l->bytes[s],
                   row * sizeof(float));
        ft__host_wrote(&m->context, node->value);
    }
}

/* Batches of order[0..count), each sample once at most, with views[i] of sample order[i] (NULL:
   view 0). Both arrays are copied. What the loader was at before is forgotten. */
static void ft__loader_start(ft__loader *l, const int *order, const int *views, int count)
{
    size_t bytes = (size_t)count * sizeof(int);
    int b;
    ft__loader_stop(l);
    if (count < 0 || count > l->data->source.count) {
        ft__fail(l->context, FT_INVALID, "the loader is to load %d of %d samples", count,
                 l->data->source.count);
        return;
    }
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
#endif
    memcpy(l->order, order, bytes);
    if (views) memcpy(l->views, views, bytes);
    else memset(l->views, 0, bytes);
    l->count = count;
    l->skipped = 0;
    for (b = 0; b < l->depth; ++b) l->missing[b] = ft__loader_batch_size(l, b);
#ifndef FINETUNE_NO_THREADS
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
#endif
}

/* Gives the batch back, so that its place is filled anew. */
static void ft__loader_release(ft__loader *l)
{
    if (!l->held) return;
    l->held = false;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
#endif
    l->missing[l->released % l->depth] = ft__loader_batch_size(l, l->released + l->depth);
    l->released += 1;
#ifndef FINETUNE_NO_THREADS
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
#endif
}

static void ft__loader_body(void *context, int index)
{
    ft__loader *l = (ft__loader *)context;
    ft__loader_fill(l, l->released * l->batch_size + index);
}

/* Until the batch with the number l->released is filled. */
static void ft__loader_wait(ft__loader *l, int wanted)
{
    int place = l->released % l->depth;
    if (l->thread_count == 0) {
#ifndef FINETUNE_NO_THREADS
        ft__parallel(l->context, wanted, ft__loader_body, l);
#else
        int i; /* without mutexes get() must not meet itself on the app's threads */
        for (i = 0; i < wanted; ++i) ft__loader_body(l, i);
#endif
        l->taken += wanted;
        l->missing[place] = 0;
        return;
    }
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&l->mutex);
    while (l->missing[place] > 0) {
        if (l->taken < l->count && l->taken / l->batch_size == l->released) ft__loader_help(l);
        else pthread_cond_wait(&l->done, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
#endif
}

/* The next batch; it stays until ft__loader_release or the next call. NULL: that was the last. */
static const ft__batch *ft__loader_next(ft__loader *l)
{
    int row, s, kept, wanted, first;
    ft__loader_release(l);
    wanted = ft__loader_batch_size(l, l->released);
    if (wanted == 0) return NULL;
    ft__loader_wait(l, wanted);
    first = l->released % l->depth * l->batch_size;
    for (row = first, kept = first; row < first + wanted; ++row) {
        if (!l->read[row]) {
            ft__log(l->context, "%s (sample %d) cannot be read and is left out",
                    ft_data_name(l->data, l->index[row]), l->index[row]);
            l->skipped += 1;
            continue;
        }
        for (s = 0; s < l->slot_count && kept != row; ++s) {
            memcpy(l->values[s] + (size_t)kept * l->bytes[s],
                   l->values[s] + (size_t)row * l->bytes[s], l->bytes[s]);
            l->lengths[s][kept] = l->lengths[s][row];
        }
        l->index[kept++] = l->index[row];
    }
    l->batch.count = kept - first;
    l->batch.first = l->released * l->batch_size;
    l->batch.wanted = wanted;
    l->batch.index = l->index + first;
    for (s = 0; s < l->slot_count; ++s) {
        l->batch.values[s] = l->values[s] + (size_t)first * l->bytes[s];
        l->batch.lengths[s] = l->lengths[s] + first;
    }
    l->held = true;
    return &l->batch;
}

/* ---- Sequences ---- */

/* Plans that are made from now on have room for the longest sample. */
static void ft__set_longest(ft_model *m, const ft_data *data)
{
    const ft_source *source = &data->source;
    int i, longest = 1;
    if (!source->length) return;
    for (i = 0; i < source->count; ++i) {
        int length = source->length(source->user, i);
        if (length > longest) longest = length;
    }
    ft_set_length(m, longest);
}

typedef struct ft__by_length { const ft_source *source; const int *order; } ft__by_length;

static bool ft__shorter(const void *context, int a, int b)
{
    const ft__by_length *by = (const ft__by_length *)context;
    int la = by->source->length(by->source->user, by->order[a]);
    int lb = by->source->length(by->source->user, by->order[b]);
    return la != lb ? la < lb : a < b;
}

/* Puts samples of like length into the same batch, so that little is padded: what was shuffled is
   sorted by length within pools of 50 batches, and the batches, but for the last one, which may be
   smaller, are shuffled again (Khomenko et al. 2016). `work` has room for 2 * count. */
static void ft__bucket(const ft_source *source, int *order, int count, int batch, uint64_t key,
                       int *work)
{
    int pool = batch > INT_MAX / 50 ? INT_MAX : 50 * batch, batches = count / batch, first, i;
    int *sorted = work, *places = work + count;
    ft__by_length by;
    if (!source->length || source->streams > 0) return;
    by.source = source;
    for (first = 0; first < count; first += pool) {
        int size = count - first < pool ? count - first : pool;
        by.order = order + first;
        ft__sort_order(places, size, ft__shorter, &by);
        for (i = 0; i < size; ++i) sorted[first + i] = order[first + places[i]];
        if (count - first <= pool) break;
    }
    ft__shuffle(places, batches, key);
    for (i = 0; i < batches; ++i)
        memcpy(order + (size_t)i * (size_t)batch, sorted + (size_t)places[i] * (size_t)batch,
               (size_t)batch * sizeof *order);
    memcpy(order + (size_t)batches * (size_t)batch, sorted + (size_t)batches * (size_t)batch,
           (size_t)(count - batches * batch) * sizeof *order);
}

/* =============================================================================================
   [SECTION] 14.2.1 Image folders
   PATH/CLASS/files. Every file is decoded once when the folder is opened, so that broken ones are
   known and named before training starts; resized pictures stay in memory while they fit, others
   are decoded again when asked for.
   Threads: get() may run on several at once, so it allocates nothing, takes its workspace from a
   pool made beforehand, and only reads what was set up when the folder was opened. The functions
   in ft_files are then called by several threads too, each with a file of its own.
   ============================================================================================= */
typedef struct ft__sample {
    char *path;             /* PATH/CLASS/NAME */
    int label;
    ft__geometry geometry;  /* of what preprocessing keeps */
    int width, height;      /* of the file's picture */
    uint64_t bytes;         /* of the file */
    uint64_t group;
    uint8_t *picture;       /* resized, the network's channels; NULL: decoded when asked for */
    bool examined;
    bool known;             /* ft_desc.cache says that it can be read: not decoded so far */
    uint64_t digest;        /* of the file's bytes; 0: not taken, for nothing is kept */
    const char *fault;      /* why it cannot be read; NULL: it can */
} ft__sample;

/* What one thread needs to decode, resize and cut out a picture. */
typedef struct ft__scratch {
    unsigned char *file;
    uint8_t *picture;
    void *workspace;
    bool taken;
} ft__scratch;

struct ft__folder {
    ft__context *context;
    ft_preprocessing preprocessing;
    ft_augmentation augmentation;
    uint64_t seed;
    char *path;
    char **class_names;     /* in the order of the labels */
    int class_count, class_capacity;
    ft__sample *samples;
    int count, capacity, skipped;
    size_t cache_left;
    ft__scratch *scratch;
    int scratch_count;
    size_t file_bytes, picture_bytes, workspace_bytes; /* of each scratch */
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_t mutex;  /* over `taken` */
    pthread_cond_t given_back;
#endif
};

int ft_data_skipped(const ft_data *data)
{
    return data && data->folder ? data->folder->skipped : 0;
}

/* For the default recipe, where the folder's options say nothing. */
static void ft__data_augment(ft_data *data, ft_augmentation augmentation)
{
    const char *fault = ft__augmentation_fault(&augmentation);
    if (fault) ft__fail(&data->model->context, FT_INVALID, "augmentation: %s", fault);
    else if (data->folder) data->folder->augmentation = augmentation;
}

/* -- Scratch: made on the model's thread; taken and given back by any -- */

static void ft__scratch_free(ft__folder *folder)
{
    while (folder->scratch_count > 0) {
        ft__scratch *scratch = &folder->scratch[--folder->scratch_count];
        ft__release(folder->context, scratch->workspace);
        ft__release(folder->context, scratch->picture);
        ft__release(folder->context, scratch->file);
    }
    ft__release(folder->context, folder->scratch);
    folder->scratch = NULL;
}

/* What the model may still allocate, as far as anybody said. */
static size_t ft__memory_left(const ft__context *c)
{
    size_t left = SIZE_MAX;
    if (c->desc.memory_budget) left = c->desc.memory_budget - c->bytes;
    if (c->desc.arena && c->desc.arena_bytes - c->arena_used < left)
        left = c->desc.arena_bytes - c->arena_used;
    return left;
}

/* One per thread that may call get(): the loader's and the model's own; fewer when they are
   large. A thread that finds none waits for one. */
static bool ft__scratch_make(ft__folder *folder, size_t file, size_t picture, size_t workspace)
{
    ft__context *c = folder->context;
    size_t all = file + picture + workspace + 1, most = (size_t)1 << 28;
    int count = c->threads + 1, i;
#ifdef FINETUNE_NO_THREADS
    count = 1;
#endif
    ft__scratch_free(folder);
    if (most > ft__memory_left(c) / 8) most = ft__memory_left(c) / 8;
    if ((size_t)count > most / all) count = most / all ? (int)(most / all) : 1;
    folder->scratch = (ft__scratch *)ft__allocate(c, (size_t)count, sizeof *folder->scratch);
    for (i = 0; i < count && ft__ok(c); ++i) {
        ft__scratch *scratch = &folder->scratch[i];
        folder->scratch_count = i + 1;
        if (file) scratch->file = (unsigned char *)ft__allocate(c, file, 1);
        if (picture) scratch->picture = (uint8_t *)ft__allocate(c, picture, 1);
        scratch->workspace = ft__allocate(c, workspace, 1);
    }
    folder->file_bytes = file;
    folder->picture_bytes = picture;
    folder->workspace_bytes = workspace;
    return ft__ok(c);
}

static ft__scratch *ft__scratch_take(ft__folder *folder)
{
    ft__scratch *found = NULL;
    int i;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&folder->mutex);
#endif
    while (!found) {
        for (i = 0; i < folder->scratch_count && !found; ++i)
            if (!folder->scratch[i].taken) found = &folder->scratch[i];
#ifndef FINETUNE_NO_THREADS
        if (!found) pthread_cond_wait(&folder->given_back, &folder->mutex);
#else
        if (!found) return NULL;
#endif
    }
    found->taken = true;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_unlock(&folder->mutex);
#endif
    return found;
}

static void ft__scratch_give_back(ft__folder *folder, ft__scratch *scratch)
{
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_lock(&folder->mutex);
    scratch->taken = false;
    pthread_cond_signal(&folder->given_back);
    pthread_mutex_unlock(&folder->mutex);
#else
    (void)folder;
    scratch->taken = false;
#endif
}

/* -- Reading one picture, on any thread -- */

static const char *ft__sample_bytes(const ft__folder *folder, const ft__sample *sample,
                                    unsigned char *to)
{
    const ft_files *files = &folder->context->desc.files;
    void *file = files->open(files->user, sample->path, false);
    const char *fault = NULL;
    int64_t size;
    if (!file) return "cannot be opened";
    size = files->size(files->user, file);
    if (size < 0 || (uint64_t)size != sample->bytes || sample->bytes > folder->file_bytes)
        fault = "the file has changed";
    else if (files->read(files->user, file, 0, to, (size_t)size) != (size_t)size)
        fault = "reading it failed";
    files->close(files->user, file);
    return fault;
}

/* Decodes and resizes into `to`; where that is NULL, finds out only whether it could. */
static const char *ft__sample_load(const ft__folder *folder, const ft__sample *sample,
                                   ft__scratch *scratch, uint8_t *to)
{
    const ft_preprocessing *p = &folder->preprocessing;
    ft__picture picture;
    const char *fault = ft__sample_bytes(folder, sample, scratch->file);
    if (!fault) fault = ft__decode(scratch->file, (size_t)sample->bytes, p->channels, &picture);
    if (fault) return fault;
    if (picture.width != sample->width || picture.height != sample->height)
        fault = "the file has changed";
    else if (to)
        ft__resize(picture.pixels, (size_t)picture.width * (size_t)p->channels, picture.width,
                   picture.height, p->channels, to, sample->geometry.width,
                   sample->geometry.height, FT__BILINEAR, scratch->workspace);
    ft__picture_free(&picture);
    return fault;
}

static bool ft__sample_input(ft__folder *folder, int index, int view_number, float *to)
{
    const ft__sample *sample = &folder->samples[index];
    const uint8_t *picture = sample->picture;
    ft__scratch *scratch = NULL;
    ft__view view;
    bool read = true;
    ft__draw_view(&folder->augmentation, &folder->preprocessing, folder->seed, index, view_number,
                  sample->geometry.width, sample->geometry.height, &view);
    if (!picture || view.crop_width > 0) {
        scratch = ft__scratch_take(folder);
        if (!scratch) return false;
    }
    if (!picture) {
        read = ft__sample_load(folder, sample, scratch, scratch->picture) == NULL;
        picture = scratch->picture;
    }
    if (read)
        ft__view_to_tensor(&folder->preprocessing, picture, &sample->geometry, &view,
                           scratch ? scratch->workspace : NULL, to);
    if (scratch) ft__scratch_give_back(folder, scratch);
    return read;
}

static bool ft__folder_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    ft__folder *folder = (ft__folder *)user;
    const ft_preprocessing *p = &folder->preprocessing;
    int s;
    for (s = 0; s < slot_count; ++s) {
        const ft_slot *slot = &slots[s];
        if (!strcmp(slot->name, "labels") && slot->type == FT_I32) {
            int32_t label = folder->samples[index].label;
            memcpy(slot->values, &label, sizeof label);
        } else if (!strcmp(slot->name, "input")) {
            if (slot->type != FT_F32 || slot->shape.rank != 3 || slot->shape.size[0] != p->channels
                || slot->shape.size[1] != p->height || slot->shape.size[2] != p->width)
                return false;
            if (!ft__sample_input(folder, index, view, (float *)slot->values)) return false;
        }
    }
    return true;
}

static int ft__folder_label(void *user, int index)
{
    return ((const ft__folder *)user)->samples[index].label;
}

static uint64_t ft__folder_digest(void *user, int index, int view)
{
    const ft__folder *folder = (const ft__folder *)user;
    const ft__sample *sample = &folder->samples[index];
    const ft_augmentation *a = &folder->augmentation;
    uint64_t hash = ft__key(sample->digest, (uint64_t)sample->label, (uint64_t)view, 0);
    float drawn[3];
    hash = ft__hash_bytes(hash, &folder->preprocessing, sizeof folder->preprocessing);
    if (view == 0) return hash;
    drawn[0] = a->shift;
    drawn[1] = a->scale;
    drawn[2] = a->flip ? 1.0f : 0.0f;
    return ft__key(ft__hash_bytes(hash, drawn, sizeof drawn), folder->seed, (uint64_t)index, 0);
}

static uint64_t ft__folder_group(void *user, int index)
{
    return ((const ft__folder *)user)->samples[index].group;
}

static const char *ft__folder_name(void *user, int index) /* CLASS/NAME */
{
    const ft__folder *folder = (const ft__folder *)user;
    return folder->samples[index].path + strlen(folder->path) + 1;
}

static const char *ft__folder_class_name(void *user, int c)
{
    return ((const ft__folder *)user)->class_names[c];
}

static void ft__folder_release(void *user)
{
    ft__folder *folder = (ft__folder *)user;
    ft__context *c = folder->context;
    int i;
    ft__scratch_free(folder);
    for (i = folder->count - 1; i >= 0; --i) {
        ft__release(c, folder->samples[i].picture);
        ft__release(c, folder->samples[i].path);
    }
    ft__release(c, folder->samples);
    for (i = folder->class_count - 1; i >= 0; --i) ft__release(c, folder->class_names[i]);
    ft__release(c, folder->class_names);
    ft__release(c, folder->path);
#ifndef FINETUNE_NO_THREADS
    pthread_cond_destroy(&folder->given_back);
    pthread_mutex_destroy(&folder->mutex);
#endif
    ft__release(c, folder);
}

/* -- Listing -- */
typedef struct ft__entry { char *name; bool is_folder; } ft__entry;

typedef struct ft__listing {
    ft__context *context;
    ft__entry *entries;
    int *order;             /* by name, bytewise */
    int count, capacity;
} ft__listing;

static void ft__listing_add(void *user, const char *name, bool is_folder)
{
    ft__listing *listing = (ft__listing *)user;
    if (name[0] == '.' || !ft__ok(listing->context)) return; /* hidden */
    if (listing->count == listing->capacity) {
        int capacity = 2 * listing->capacity + 16;
        ft__entry *grown = (ft__entry *)ft__grow(listing->context, listing->entries,
                                                 (size_t)listing->count, (size_t)capacity,
                                                 sizeof *grown);
        if (!grown) return;
        listing->entries = grown;
        listing->capacity = capacity;
    }
    listing->entries[listing->count].name = ft__copy_text(listing->context, name);
    listing->entries[listing->count].is_folder = is_folder;
    if (ft__ok(listing->context)) listing->count += 1;
}

static bool ft__entry_less(const void *context, int a, int b)
{
    const ft__entry *entries = (const ft__entry *)context;
    int order = strcmp(entries[a].name, entries[b].name);
    return order < 0 || (order == 0 && a < b);
}

static void ft__listing_free(ft__listing *listing)
{
    int i;
    ft__release(listing->context, listing->order);
    for (i = listing->count - 1; i >= 0; --i)
        ft__release(listing->context, listing->entries[i].name);
    ft__release(listing->context, listing->entries);
}

static bool ft__listing_read(ft__context *c, ft__listing *listing, const char *path)
{
    const ft_files *files = &c->desc.files;
    memset(listing, 0, sizeof *listing);
    listing->context = c;
    if (!files->list(files->user, path, ft__listing_add, listing))
        ft__fail(c, FT_IO, "%s: no such folder", path);
    listing->order = (int *)ft__allocate(c, (size_t)listing->count + 1, sizeof(int));
    if (ft__ok(c))
        ft__sort_order(listing->order, listing->count, ft__entry_less, listing->entries);
    return ft__ok(c);
}

static bool ft__is_picture(const char *name)
{
    static const char *const endings[] = {"jpg", "jpeg", "png", "bmp", "ppm", "pgm", "gif"};
    const char *dot = strrchr(name, '.');
    size_t i, k;
    for (i = 0; dot && i < sizeof endings / sizeof *endings; ++i) {
        for (k = 0; endings[i][k]; ++k)
            if ((dot[1 + k] | 0x20) != endings[i][k]) break;
        if (!endings[i][k] && !dot[1 + k]) return true;
    }
    return false;
}

static char *ft__join_path(ft__context *c, const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    char *path = (char *)ft__allocate(c, a + b + 2, 1);
    if (!path) return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b);
    return path;
}

static void ft__folder_add_file(ft__folder *folder, const char *class_path, const char *name)
{
    ft__context *c = folder->context;
    ft__sample *sample;
    if (folder->count == folder->capacity) {
        int capacity = folder->capacity < INT_MAX / 4 ? 2 * folder->capacity + 64 : INT_MAX;
        sample = (ft__sample *)ft__grow(c, folder->samples, (size_t)folder->count,
                                        (size_t)capacity, sizeof *sample);
        if (!sample) return;
        folder->samples = sample;
        folder->capacity = capacity;
    }
    sample = &folder->samples[folder->count];
    sample->path = ft__join_path(c, class_path, name);
    sample->label = folder->class_count - 1;
    if (sample->path) folder->count += 1;
}

/* The files of the class that was added last. */
static void ft__folder_scan_class(ft__folder *folder, const char *path)
{
    ft__listing listing;
    const char *inner = NULL, *other = NULL;
    int before = folder->count, others = 0, i;
    if (ft__listing_read(folder->context, &listing, path)) {
        for (i = 0; i < listing.count; ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            if (entry->is_folder) inner = entry->name;
            else if (ft__is_picture(entry->name)) ft__folder_add_file(folder, path, entry->name);
            else if (others++ == 0) other = entry->name;
        }
        if (folder->count == before)
            ft__fail(folder->context, FT_IO, "%s: this class has no pictures (JPEG, PNG, BMP,"
                     " PPM, PGM or GIF)%s%s%s", path, inner ? "; it holds a folder, " : "",
                     inner ? inner : "", inner ? ": is that where the classes are?" : "");
        else if (others)
            ft__log(folder->context, "%s: %d files of other kinds are left out, the first is %s",
                    path, others, other);
    }
    ft__listing_free(&listing);
}

static void ft__folder_add_class(ft__folder *folder, const char *name)
{
    ft__context *c = folder->context;
    if (folder->class_count == folder->class_capacity) {
        int capacity = 2 * folder->class_capacity + 16;
        char **grown = (char **)ft__grow(c, folder->class_names, (size_t)folder->class_count,
                                         (size_t)capacity, sizeof *grown);
        if (!grown) return;
        folder->class_names = grown;
        folder->class_capacity = capacity;
    }
    folder->class_names[folder->class_count] = ft__copy_text(c, name);
    if (ft__ok(c)) folder->class_count += 1;
}

static void ft__folder_scan(ft__folder *folder)
{
    ft__context *c = folder->context;
    ft__listing listing;
    const char *loose = NULL;
    int i, loose_count = 0;
    if (ft__listing_read(c, &listing, folder->path)) {
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            if (entry->is_folder) {
                char *path = ft__join_path(c, folder->path, entry->name);
                ft__folder_add_class(folder, entry->name);
                if (ft__ok(c)) ft__folder_scan_class(folder, path);
                ft__release(c, path);
            } else if (ft__is_picture(entry->name) && loose_count++ == 0) loose = entry->name;
        }
        if (folder->class_count == 0 && loose)
            ft__fail(c, FT_IO, "%s: its %d pictures lie directly in it; each class needs a folder"
                     " of its own, as %s/CLASS/%s", folder->path, loose_count, folder->path, loose);
        else if (folder->class_count == 0)
            ft__fail(c, FT_IO, "%s: no folders in it; each class needs one, as %s/CLASS/any.jpg",
                     folder->path, folder->path);
        else if (loose)
            ft__log(c, "%s: %d pictures directly in it belong to no class and are left out, the"
                    " first is %s", folder->path, loose_count, loose);
    }
    ft__listing_free(&listing);
}

/* -- Examining: which pictures can be read, and keeping them -- */
typedef struct ft__examination {
    ft__folder *folder;
    const int *wanted;      /* samples */
    int count, parts;       /* part i takes wanted[i], wanted[i + parts], ... */
} ft__examination;

static void ft__examine_header(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        s->examined = true;
        s->fault = ft__picture_info(&e->folder->context->desc.files, s->path, &s->width,
                                    &s->height, &s->bytes);
        if (!s->fault && !ft__geometry_of(&e->folder->preprocessing, s->width, s->height,
                                          &s->geometry)) s->fault = ft__odd_sides;
    }
}

static void ft__examine_pixels(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        if (!s->fault)
            s->fault = ft__sample_load(e->folder, s, &e->folder->scratch[part], s->picture);
    }
}

static size_t ft__sample_picture_bytes(const ft__folder *folder, const ft__sample *sample)
{
    return (size_t)sample->geometry.width * (size_t)sample->geometry.height
           * (size_t)folder->preprocessing.channels;
}

/* Scratch for every sample: of those that are kept, or of those about to be examined. */
static bool ft__folder_fit_scratch(ft__folder *folder, bool opening)
{
    const ft_preprocessing *p = &folder->preprocessing;
    size_t file = 0, picture = 0, workspace = 1;
    int i;
    for (i = 0; i < folder->count; ++i) {
        const ft__sample *s = &folder->samples[i];
        size_t resize, view;
        if (!s->examined || s->fault) continue;
        view = ft__view_workspace(p, s->geometry.width, s->geometry.height);
        if (view > workspace) workspace = view;
        if (s->picture && !opening) continue;
        resize = ft__resize_workspace(p->channels, s->width, s->height, s->geometry.width,
                                      s->geometry.height, FT__BILINEAR);
        if (resize > workspace) workspace = resize;
        if (s->bytes > file) file = (size_t)s->bytes;
        if (!s->picture && ft__sample_picture_bytes(folder, s) > picture)
            picture = ft__sample_picture_bytes(folder, s);
    }
    return ft__scratch_make(folder, file, picture, workspace);
}

/* Decodes the wanted samples; those that fit stay in memory. */
static void ft__folder_decode(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    int i;
    e.folder = folder;
    e.wanted = wanted;
    e.count = count;
    for (i = 0; i < count; ++i) {
        ft__sample *s = &folder->samples[wanted[i]];
        size_t bytes = s->fault ? 0 : ft__sample_picture_bytes(folder, s);
        if (s->fault || bytes > folder->cache_left) continue;
        s->picture = (uint8_t *)ft__allocate(c, bytes, 1);
        if (!s->picture) return;
        folder->cache_left -= bytes;
    }
    if (!ft__folder_fit_scratch(folder, true)) return;
    e.parts = folder->scratch_count;
    ft__parallel(c, e.parts, ft__examine_pixels, &e);
    for (i = 0; i < count; ++i) {
        ft__sample *s = &folder->samples[wanted[i]];
        if (!s->fault || !s->picture) continue;
        folder->cache_left += ft__sample_picture_bytes(folder, s);
        ft__release(c, s->picture);
        s->picture = NULL;
    }
}

static void ft__examine_bytes(void *context, int part)
{
    ft__examination *e = (ft__examination *)context;
    unsigned char *file = e->folder->scratch[part].file;
    int i;
    for (i = part; i < e->count; i += e->parts) {
        ft__sample *s = &e->folder->samples[e->wanted[i]];
        if (!s->fault) s->fault = ft__sample_bytes(e->folder, s, file);
        if (!s->fault) s->digest = ft__hash_bytes(s->bytes, file, (size_t)s->bytes);
    }
}

/* A folder's file of known pictures: under a picture's digest, its sides. */
static bool ft__folder_known_file(const ft__folder *folder, ft__row_file *file)
{
    uint64_t kind = ft__hash_bytes((uint64_t)folder->preprocessing.channels, "pictures 1", 10);
    return ft__rows_make(file, folder->context, "pictures",
                         ft__hash_bytes(0, folder->path, strlen(folder->path)), kind, 2);
}

/* Takes digests of the wanted samples, and marks those that are known to be readable. */
static void ft__folder_recognise(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    ft__key_table table;
    ft__row_file file;
    uint64_t *keys = (uint64_t *)ft__allocate(c, (size_t)count, sizeof *keys), key, at;
    float sides[2];
    int i;
    memset(&file, 0, sizeof file);
    memset(&table, 0, sizeof table);
    if (ft__ok(c) && ft__folder_fit_scratch(folder, true)) {
        e.folder = folder;
        e.wanted = wanted;
        e.count = count;
        e.parts = folder->scratch_count;
        ft__parallel(c, e.parts, ft__examine_bytes, &e);
        for (i = 0; i < count; ++i) keys[i] = folder->samples[wanted[i]].digest;
        if (ft__key_table_make(c, &table, keys, count) && ft__folder_known_file(folder, &file)
            && ft__rows_open(&file))
            for (at = 0; at < file.count && ft__rows_key(&file, at, &key); ++at) {
                if ((i = ft__key_find(&table, key)) < 0) continue;
                if (!ft__rows_read(&file, at, key, sides)) continue;
                for (; i >= 0; i = table.next[i]) {
                    ft__sample *s = &folder->samples[wanted[i]];
                    s->known = sides[0] == (float)s->width && sides[1] == (float)s->height;
                }
            }
    }
    ft__rows_free(&file);
    ft__key_table_free(c, &table);
    ft__release(c, keys);
}

/* Writes down which pictures can be read, where that was not known. */
static void ft__folder_remember(ft__folder *folder)
{
    ft__row_file file;
    bool written = true;
    int i, unknown = 0;
    for (i = 0; i < folder->count; ++i) unknown += !folder->samples[i].known;
    if (!folder->context->desc.cache || !unknown) return;
    if (ft__folder_known_file(folder, &file) && ft__rows_create(&file)) {
        for (i = 0; written && i < folder->count; ++i) {
            float sides[2];
            sides[0] = (float)folder->samples[i].width;
            sides[1] = (float)folder->samples[i].height;
            written = ft__rows_add(&file, folder->samples[i].digest, sides);
        }
        ft__rows_finish(&file, written);
    }
    ft__rows_free(&file);
}

/* Decodes what was only recognised so far: somebody is about to ask for the pictures. */
static void ft__data_decode(ft_data *data)
{
    ft__folder *folder = data->folder;
    int *wanted, i, count = 0;
    if (!folder || !ft__ok(folder->context)) return;
    wanted = (int *)ft__allocate(folder->context, (size_t)folder->count + 1, sizeof *wanted);
    for (i = 0; wanted && i < folder->count; ++i) {
        ft__sample *s = &folder->samples[i];
        if (s->known) wanted[count++] = i;
        s->known = false;
    }
    if (count) {
        ft__folder_decode(folder, wanted, count);
        ft__folder_fit_scratch(folder, false);
    }
    ft__release(folder->context, wanted);
}

static void ft__folder_examine(ft__folder *folder, const int *wanted, int count)
{
    ft__context *c = folder->context;
    ft__examination e;
    int *unknown, i, unknown_count = 0;
    e.folder = folder;
    e.wanted = wanted;
    e.count = count;
    e.parts = c->threads < 1 ? 1 : c->threads;
    ft__scratch_free(folder);
    ft__parallel(c, e.parts, ft__examine_header, &e);
    unknown = (int *)ft__allocate(c, (size_t)count, sizeof *unknown);
    if (c->desc.cache) ft__folder_recognise(folder, wanted, count);
    for (i = 0; ft__ok(c) && i < count; ++i)
        if (!folder->samples[wanted[i]].known) unknown[unknown_count++] = wanted[i];
    if (unknown_count) ft__folder_decode(folder, unknown, unknown_count);
    ft__release(c, unknown);
}

/* Where each class starts in the samples, which are in the order of the classes; starts[classes]
   is their number. */
static void ft__folder_class_starts(const ft__folder *folder, int *starts)
{
    int i, c = 0;
    for (i = 0; i < folder->count; ++i)
        if (i == 0 || folder->samples[i].label != folder->samples[i - 1].label) starts[c++] = i;
    starts[c] = folder->count;
}

static int ft__folder_readable(const ft__folder *folder, int first, int end)
{
    int i, readable = 0;
    for (i = first; i < end; ++i)
        readable += folder->samples[i].examined && !folder->samples[i].fault;
    return readable;
}

/* The first `limit` readable ones of each class in a drawn order: a broken one is replaced by the
   next in that order, so examining goes on until nothing is wanted. `work` holds 2 * count +
   2 * classes + 1 numbers. */
static void ft__folder_examine_drawn(ft__folder *folder, int classes, int limit, int *work)
{
    int *drawn = work, *wanted = drawn + folder->count, *starts = wanted + folder->count;
    int *next = starts + classes + 1, c, i, wanted_count;
    ft__folder_class_starts(folder, starts);
    for (c = 0; c < classes; ++c) {
        next[c] = starts[c];
        ft__shuffle(drawn + starts[c], starts[c + 1] - starts[c],
                    ft__key(folder->seed, (uint64_t)c, 0, FT__USE_PER_CLASS));
        for (i = starts[c]; i < starts[c + 1]; ++i)
            drawn[i] = limit == INT_MAX ? i : drawn[i] + starts[c];
    }
    do {
        wanted_count = 0;
        for (c = 0; c < classes; ++c)
            for (i = ft__folder_readable(folder, starts[c], starts[c + 1]);
                 i < limit && next[c] < starts[c + 1]; ++i)
                wanted[wanted_count++] = drawn[next[c]++];
        if (wanted_count) ft__folder_examine(folder, wanted, wanted_count);
    } while (wanted_count && ft__ok(folder->context));
    for (c = 0; c < classes && ft__ok(folder->context); ++c) {
        const ft__sample *s = &folder->samples[starts[c]];
        if (ft__folder_readable(folder, starts[c], starts[c + 1]) == 0)
            ft__fail(folder->context, FT_IO, "%s: this class has %d pictures, and none can be"
                     " read; %s: %s", folder->class_names[s->label],
                     starts[c + 1] - starts[c], s->path, s->fault);
    }
}

/* Keeps what was examined and can be read, in the order of the names; counts and names the rest. */
static void ft__folder_drop(ft__folder *folder)
{
    int i, kept = 0;
    for (i = 0; i < folder->count; ++i) {
        ft__sample s = folder->samples[i];
        memset(&folder->samples[i], 0, sizeof s);
        if (s.examined && !s.fault) {
            folder->samples[kept++] = s;
            continue;
        }
        if (s.examined) {
            ft__log(folder->context, "%s: left out: %s", s.path, s.fault);
            folder->skipped += 1;
        }
        ft__release(folder->context, s.path);
    }
    folder->count = kept;
}

/* Frames of one track are as good as copies of each other. Their names are two numbers, of the
   track and of the frame: NNNNN_MMMMM.ppm. Eight digits are more likely a date. */
static uint64_t ft__name_group(const char *name, int label, int index)
{
    uint64_t key = ft__key(0, (uint64_t)label, 0, 0);
    size_t track = strspn(name, "0123456789"), frame;
    if (track > 0 && track < 8 && name[track] == '_') {
        frame = strspn(name + track + 1, "0123456789");
        if (frame > 0 && name[track + 1 + frame] == '.') return ft__hash_bytes(key, name, track);
    }
    return ft__key(1, (uint64_t)index, 0, 0);
}

/* How many groups there are; samples of one track follow each other. */
static int ft__folder_find_groups(ft__folder *folder)
{
    int i, groups = 0;
    for (i = 0; i < folder->count; ++i) {
        ft__sample *s = &folder->samples[i];
        s->group = ft__name_group(strrchr(s->path, '/') + 1, s->label, i);
        if (i == 0 || s->group != folder->samples[i - 1].group) groups += 1;
    }
    return groups;
}

/* Turns labels into the model's. */
static void ft__folder_match_classes(ft__folder *folder, const ft_model *m)
{
    ft__context *c = folder->context;
    int folder_count = folder->class_count, count = m->class_count, i, k;
    char **names;
    const ft__node *output = ft__get_node(m, m->output);
    if (count == 0 && output && output->shape.rank > 0)
        count = output->shape.size[output->shape.rank - 1];
    if (!m->class_names && count != folder_count)
        ft__fail(c, FT_INVALID, "%s: it has %d classes, but the model has %d, without names",
                 folder->path, folder_count, count);
    if (!ft__ok(c) || !m->class_names) return;
    names = (char **)ft__allocate(c, (size_t)count, sizeof *names);
    for (k = 0; k < count && ft__ok(c); ++k) names[k] = ft__copy_text(c, m->class_names[k]);
    for (i = 0; i < folder->count && ft__ok(c); ++i) {
        const char *name = folder->class_names[folder->samples[i].label];
        for (k = 0; k < count; ++k)
            if (!strcmp(name, names[k])) break;
        if (k == count)
            ft__fail(c, FT_INVALID, "%s/%s: the model has no class of this name (its first is %s)",
                     folder->path, name, count ? names[0] : "missing");
        folder->samples[i].label = k;
    }
    for (i = 0; i < folder_count; ++i) ft__release(c, folder->class_names[i]);
    ft__release(c, folder->class_names);
    folder->class_names = names;
    folder->class_count = names ? count : 0;
}

static void ft__folder_fill(ft__folder *folder, const ft_model *m,
                            const ft_image_folder_options *options, ft_source *source)
{
    ft__context *c = folder->context;
    int *work, cached = 0, known = 0, classes, i, groups;
    ft__folder_scan(folder);
    classes = folder->class_count;
    if (ft__ok(c) && classes == 1 && !options->match_classes)
        ft__fail(c, FT_IO, "%s: it has one class only, %s; two or more are needed to tell apart",
                 folder->path, folder->class_names[0]);
    if (ft__ok(c) && options->match_classes) ft__folder_match_classes(folder, m);
    work = (int *)ft__allocate(c, 2 * (size_t)folder->count + 2 * (size_t)classes + 1,
                               sizeof *work);
    if (work)
        ft__folder_examine_drawn(folder, classes, options->per_class ? options->per_class : INT_MAX,
                                 work);
    ft__release(c, work);
    if (!ft__ok(c)) return;
    ft__folder_drop(folder);
    ft__folder_remember(folder);
    if (!ft__folder_fit_scratch(folder, false)) return;
    groups = ft__folder_find_groups(folder);
    for (i = 0; i < folder->count; ++i) cached += folder->samples[i].picture != NULL;
    for (i = 0; i < folder->count; ++i) known += folder->samples[i].known;
    ft__log(c, "%s: %d pictures of %d classes; %d could not be read, %d are kept in memory%s",
            folder->path, folder->count, classes, folder->skipped, cached,
            known ? ", others are known" : "");
    if (groups < folder->count && !options->no_groups)
        ft__log(c, "%s: by their names (NNNNN_MMMMM) they are frames of %d tracks, which are never"
                " split", folder->path, groups);
    source->count = folder->count;
    source->classes = folder->class_count;
    source->group = options->no_groups ? NULL : ft__folder_group;
}

/* Bytes for kept pictures: what was asked for, or a share of what the model may take. */
static size_t ft__folder_cache(const ft__context *c, size_t asked)
{
    size_t cache = (size_t)512 << 20, left = ft__memory_left(c);
    if (asked) return asked;
    return cache < left / 4 ? cache : left / 4;
}

static bool ft__folder_check(ft_model *m, const char *path,
                             const ft_image_folder_options *options)
{
    ft__context *c = &m->context;
    const char *fault;
    if (!path || options->per_class < 0) {
        ft__fail(c, FT_INVALID, "image folder: the path must not be NULL, per_class (%d) not"
                 " negative", options->per_class);
        return false;
    }
    if (ft__decode_missing()) ft__fail(c, FT_UNSUPPORTED, "%s: %s", path, ft__decode_missing());
    if (!c->desc.files.list)
        ft__fail(c, FT_UNSUPPORTED, "%s: folders cannot be listed here: set ft_desc.files.list",
                 path);
    fault = ft__preprocessing_fault(&m->preprocessing);
    if (fault)
        ft__fail(c, FT_INVALID, "%s: the model's preprocessing does not say what a picture becomes:"
                 " %s; load or build a network first, or call ft_set_preprocessing", path, fault);
    fault = ft__augmentation_fault(&options->augmentation);
    if (fault) ft__fail(c, FT_INVALID, "%s: augmentation: %s", path, fault);
    return ft__ok(c);
}

ft_data *ft_image_folder(ft_model *m, const char *path, ft_image_folder_options options)
{
    ft__context *c;
    ft__folder *folder;
    ft_source source;
    ft_data *data = NULL;
    size_t length;
    if (!m || !ft__ok(&m->context) || !ft__folder_check(m, path, &options)) return NULL;
    c = &m->context;
    folder = (ft__folder *)ft__allocate(c, 1, sizeof *folder);
    if (!folder) return NULL;
#ifndef FINETUNE_NO_THREADS
    pthread_mutex_init(&folder->mutex, NULL);
    pthread_cond_init(&folder->given_back, NULL);
#endif
    folder->context = c;
    folder->preprocessing = m->preprocessing;
    folder->augmentation = options.augmentation;
    folder->seed = c->desc.seed;
    folder->cache_left = ft__folder_cache(c, options.cache_bytes);
    folder->path = ft__copy_text(c, path);
    for (length = strlen(path); folder->path && length > 1 && path[length - 1] == '/'; --length)
        folder->path[length - 1] = 0;
    memset(&source, 0, sizeof source);
    source.user = folder;
    source.get = ft__folder_get;
    source.label = ft__folder_label;
    source.name = ft__folder_name;
    source.class_name = ft__folder_class_name;
    source.release = ft__folder_release;
    source.digest = ft__folder_digest;
    if (ft__ok(c)) ft__folder_fill(folder, m, &options, &source);
    if (ft__ok(c)) data = ft_data_source(m, source);
    if (data) data->folder = folder;
    else ft__folder_release(folder);
    return data;
}


/* =============================================================================================
   [SECTION] 14.2.2 Texts
   Labelled texts, from a table (TSV, CSV, JSON lines) or from PATH/CLASS/files. They are read and
   turned into tokens when they are opened; get() copies. It fills "tokens" [L], padded with zeros,
   "lengths" [] and "labels" [].
   ============================================================================================= */
struct ft__texts {
    ft__context *context;
    ft__text letters;       /* all texts, a 0 behind each */
    size_t *start;          /* [count]: in letters */
    int *labels;            /* [count] */
    int count, capacity;
    ft__vocabulary classes;
    ft__ids ids;            /* the tokens of all texts */
    size_t *ids_start;      /* [count + 1]: in ids */
    int longest;            /* tokens of the longest */
};

static const char *ft__one_text(const ft__texts *t, int index)
{
    return t->letters.letters + t->start[index];
}

static void ft__texts_add(ft__texts *t, const char *text, size_t bytes, const char *label)
{
    ft__context *c = t->context;
    int class_index = ft__vocabulary_find(&t->classes, label, strlen(label));
    if (t->count == t->capacity) {
        int capacity = t->capacity < INT_MAX / 4 ? 2 * t->capacity + 256 : INT_MAX;
        size_t *start = (size_t *)ft__grow(c, t->start, (size_t)t->count, (size_t)capacity,
                                           sizeof *start);
        int *labels = (int *)ft__grow(c, t->labels, (size_t)t->count, (size_t)capacity,
                                      sizeof *labels);
        if (start) t->start = start;
        if (labels) t->labels = labels;
        t->capacity = capacity;
    }
    if (class_index < 0) {
        class_index = t->classes.count;
        ft__vocabulary_add(&t->classes, label, strlen(label));
    }
    if (!ft__ok(c)) return;
    t->start[t->count] = t->letters.count;
    t->labels[t->count] = class_index;
    ft__text_add_bytes(&t->letters, text, bytes);
    ft__text_add_bytes(&t->letters, "", 1);
    t->count += 1;
}

/* ---- Tables: TSV, CSV (RFC 4180), JSON lines ---- */
enum { FT__MOST_COLUMNS = 64 };

typedef struct ft__table {
    ft__texts *texts;
    const char *path;
    const char *at, *end;
    char separator;         /* 0: JSON lines */
    ft__text letters;       /* the fields of one record, a 0 behind each */
    size_t fields[FT__MOST_COLUMNS];
    int count;              /* of fields */
    int text_column, label_column; /* from 0 */
    int record;             /* from 1 */
} ft__table;

static const char *ft__field_text(const ft__table *table, int field)
{
    return field < table->count ? table->letters.letters + table->fields[field] : "";
}

/* One field, from `at`; moves behind the separator. False: the record ends with it. */
static bool ft__table_field(ft__table *table)
{
    bool quoted = table->separator == ',' && table->at < table->end && *table->at == '"';
    size_t start = table->letters.count;
    if (quoted) table->at += 1;
    while (table->at < table->end) {
        char letter = *table->at++;
        if (quoted && letter == '"') {
            quoted = table->at < table->end && *table->at == '"'; /* two are one inside */
            if (!quoted) continue;
            table->at += 1;
        } else if (!quoted && (letter == table->separator || letter == '\n')) {
            bool more = letter != '\n';
            if (!more && table->letters.count > start
                && table->letters.letters[table->letters.count - 1] == '\r')
                table->letters.count -= 1;
            ft__text_add_bytes(&table->letters, "", 1);
            return more;
        }
        ft__text_add_bytes(&table->letters, &letter, 1);
    }
    ft__text_add_bytes(&table->letters, "", 1);
    return false;
}

static bool ft__next_record(ft__table *table)
{
    bool more = true;
    table->count = 0;
    table->letters.count = 0;
    if (table->at >= table->end || !ft__ok(table->texts->context)) return false;
    table->record += 1;
    while (more) {
        if (table->count < FT__MOST_COLUMNS)
            table->fields[table->count++] = table->letters.count;
        more = ft__table_field(table) && ft__ok(table->texts->context);
    }
    return ft__ok(table->texts->context);
}

/* Is `wanted` a number of a column? From 1, as cut and awk count; -1: it is a name. */
static int ft__column_number(const char *wanted)
{
    int number = 0, i;
    for (i = 0; wanted[i] >= '0' && wanted[i] <= '9' && i < 3; ++i)
        number = 10 * number + wanted[i] - '0';
    return i > 0 && !wanted[i] && number > 0 ? number - 1 : -1;
}

static int ft__named_field(const ft__table *table, const char *const *names)
{
    int f, n;
    for (n = 0; names[n]; ++n)
        for (f = 0; f < table->count; ++f)
            if (!strcmp(ft__field_text(table, f), names[n])) return f;
    return -1;
}

/* Finds the columns; the first record is a header if a column is named in it. Without a header and
   without options the first column is the text and the second the label. */
static bool ft__find_columns(ft__table *table, const ft_text_options *o)
{
    static const char *const texts[] = {"text", "sentence", "review", "content", NULL};
    static const char *const labels[] = {"label", "class", "category", "sentiment", "target", NULL};
    const char *text[2] = {o->text_column, NULL}, *label[2] = {o->label_column, NULL};
    int text_number = text[0] ? ft__column_number(text[0]) : -1;
    int label_number = label[0] ? ft__column_number(label[0]) : -1;
    int named_text = ft__named_field(table, text[0] ? text : texts);
    int named_label = ft__named_field(table, label[0] ? label : labels);
    bool header = named_text >= 0 && (named_label >= 0 || label_number >= 0 || !label[0]);
    table->text_column = text_number >= 0 ? text_number : header ? named_text : 0;
    table->label_column = label_number >= 0 ? label_number : named_label >= 0 ? named_label : 1;
    if ((text[0] && text_number < 0 && named_text < 0)
        || (label[0] && label_number < 0 && named_label < 0)) {
        ft__fail(table->texts->context, FT_FORMAT, "%s: its first line has no column of the name"
                 " %s", table->path, text[0] && text_number < 0 && named_text < 0 ? text[0]
                                                                                 : label[0]);
        return false;
    }
    return header && text_number < 0;
}

static void ft__read_table(ft__table *table, const ft_text_options *o)
{
    ft__context *c = table->texts->context;
    bool first = true;
    while (ft__next_record(table)) {
        const char *text;
        int last;
        if (table->count == 1 && !*ft__field_text(table, 0)) continue; /* an empty line */
        if (first && ft__find_columns(table, o)) {
            first = false;
            continue;
        }
        first = false;
        last = table->text_column > table->label_column ? table->text_column : table->label_column;
        if (o->unlabelled) last = table->text_column;
        if (!ft__ok(c)) return;
        if (last >= table->count) {
            ft__fail(c, FT_FORMAT, "%s: record %d has %d columns, the text is in column %d and the"
                     " label in %d", table->path, table->record, table->count,
                     table->text_column + 1, table->label_column + 1);
            return;
        }
        text = ft__field_text(table, table->text_column);
        ft__texts_add(table->texts, text, strlen(text),
                      o->unlabelled ? "" : ft__field_text(table, table->label_column));
    }
}

/* A label that is a number or a truth value goes by how it is written. */
static const char *ft__json_label(const ft__json *json, int value, char to[32])
{
    const char *text = ft__json_string(json, value);
    double number = 0;
    if (text) return text;
    if (ft__json_double(json, value, &number)) snprintf(to, 32, "%.6g", number);
    else if (ft__json_at(json, value, 't') || ft__json_at(json, value, 'f'))
        snprintf(to, 32, "%s", ft__json_true(json, value) ? "true" : "false");
    else return NULL;
    return to;
}

static void ft__read_json_lines(ft__table *table, const ft_text_options *o)
{
    ft__context *c = table->texts->context;
    const char *line;
    size_t at = 0, bytes = (size_t)(table->end - table->at), count;
    while (ft__next_line(table->at, bytes, &at, &line, &count) && ft__ok(c)) {
        char written[32];
        ft__json *json;
        const char *text, *label;
        table->record += 1;
        if (count == 0) continue;
        json = ft__json_parse(c, line, count);
        text = json ? ft__json_string(json, ft__json_member(json, 0, o->text_column
                                                            ? o->text_column : "text")) : NULL;
        label = json ? ft__json_label(json, ft__json_member(json, 0, o->label_column
                                                    ? o->label_column : "label"), written) : NULL;
        if (o->unlabelled) label = "";
        if (text && label) ft__texts_add(table->texts, text, strlen(text), label);
        else ft__fail(c, FT_FORMAT, "%s: line %d is no JSON object with a text in \"%s\" and a"
                      " label in \"%s\"", table->path, table->record,
                      o->text_column ? o->text_column : "text",
                      o->label_column ? o->label_column : "label");
        ft__json_free(c, json);
    }
}

static void ft__read_table_file(ft__texts *t, const char *path, const char *content, size_t bytes,
                                const ft_text_options *o)
{
    const char *name = o->format ? o->format : path;
    ft__table table;
    memset(&table, 0, sizeof table);
    table.texts = t;
    table.path = path;
    table.at = content;
    table.end = content + bytes;
    table.letters.context = t->context;
    if (bytes >= 3 && memcmp(content, "\xef\xbb\xbf", 3) == 0) table.at += 3; /* a mark of UTF-8 */
    table.separator = ft__ends_with(name, "csv") ? ',' : '\t';
    if (ft__ends_with(name, "json") || ft__ends_with(name, "jsonl")) ft__read_json_lines(&table, o);
    else ft__read_table(&table, o);
    ft__release(t->context, table.letters.letters);
}

/* ---- Class folders ---- */
static void ft__read_class_files(ft__texts *t, const char *path, const char *label)
{
    ft__context *c = t->context;
    ft__listing listing;
    int i;
    if (ft__listing_read(c, &listing, path))
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            char *file = entry->is_folder ? NULL : ft__join_path(c, path, entry->name);
            size_t bytes = 0;
            unsigned char *content = file ? ft__read_file(c, file, &bytes) : NULL;
            if (content) ft__texts_add(t, (const char *)content, bytes, label);
            ft__release(c, content);
            ft__release(c, file);
        }
    ft__listing_free(&listing);
}

static void ft__read_text_folder(ft__texts *t, const char *path)
{
    ft__context *c = t->context;
    ft__listing listing;
    int i;
    if (ft__listing_read(c, &listing, path))
        for (i = 0; i < listing.count && ft__ok(c); ++i) {
            const ft__entry *entry = &listing.entries[listing.order[i]];
            char *inner = entry->is_folder ? ft__join_path(c, path, entry->name) : NULL;
            if (inner) ft__read_class_files(t, inner, entry->name);
            ft__release(c, inner);
        }
    ft__listing_free(&listing);
}

static void ft__pass_over(void *user, const char *name, bool is_folder)
{
    (void)user;
    (void)name;
    (void)is_folder;
}

static bool ft__is_folder(const ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    return files->list && files->list(files->user, path, ft__pass_over, NULL);
}

/* ---- Classes ---- */
static bool ft__class_less(const void *context, int a, int b)
{
    const ft__vocabulary *v = (const ft__vocabulary *)context;
    return strcmp(ft__piece_text(v, a), ft__piece_text(v, b)) < 0;
}

static int ft__class_of_model(const ft_model *m, const char *name) /* -1: none */
{
    int i;
    for (i = 0; i < m->class_count; ++i)
        if (!strcmp(m->class_names[i], name)) return i;
    return -1;
}

/* Labels become indices of the classes in the order of their names; where they are to match, of the
   model's classes. */
static void ft__sort_classes(ft_model *m, ft__texts *t, bool match)
{
    ft__context *c = t->context;
    ft__vocabulary found = t->classes;
    int *order = (int *)ft__allocate(c, 2 * (size_t)found.count + 1, sizeof *order), i;
    int *place = order ? order + found.count : NULL;
    memset(&t->classes, 0, sizeof t->classes);
    t->classes.context = t->classes.letters.context = c;
    if (order) ft__sort_order(order, found.count, ft__class_less, &found);
    for (i = 0; order && i < found.count; ++i) {
        const char *name = ft__piece_text(&found, order[i]);
        place[order[i]] = match ? ft__class_of_model(m, name) : i;
        if (place[order[i]] < 0)
            ft__fail(c, FT_MISMATCH, "the label '%s' is none of the model's %d classes", name,
                     m->class_count);
        if (!match) ft__vocabulary_add(&t->classes, name, strlen(name));
    }
    for (i = 0; match && i < m->class_count; ++i)
        ft__vocabulary_add(&t->classes, m->class_names[i], strlen(m->class_names[i]));
    for (i = 0; ft__ok(c) && i < t->count; ++i) t->labels[i] = place[t->labels[i]];
    ft__release(c, order);
    ft__vocabulary_release(&found);
}

/* ---- Tokens ---- */

/* The model's tokeniser; where it has none, the words of these texts become it. */
static ft_tokenizer *ft__tokenizer_for(ft_model *m, const ft__texts *t, ft_tokenizer *given,
                                       ft_tokenizer_kind kind, ft_vocabulary_options vocabulary)
{
    const char **texts;
    int i;
    if (given) return given;
    if (m->tokenizer) return m->tokenizer;
    texts = (const char **)ft__allocate(&m->context, (size_t)t->count + 1, sizeof *texts);
    if (!texts) return NULL;
    for (i = 0; i < t->count; ++i) texts[i] = ft__one_text(t, i);
    given = ft_tokenizer_build(m, kind, texts, t->count, vocabulary);
    ft__release(&m->context, (void *)(uintptr_t)texts);
    return given;
}

/* A text without tokens is one unknown piece, for a sequence has at least one step. */
static void ft__tokenize_texts(ft__texts *t, ft_tokenizer *tokenizer, int longest)
{
    ft__context *c = t->context;
    int i;
    t->ids_start = (size_t *)ft__allocate(c, (size_t)t->count + 1, sizeof *t->ids_start);
    for (i = 0; i < t->count && ft__ok(c); ++i) {
        const char *text = ft__one_text(t, i);
        ft_tokenize_options special = {true};
        ft_tokens tokens = ft_tokenize(tokenizer, text, strlen(text), special);
        int count = tokens.count < longest ? tokens.count : longest, k;
        for (k = 0; k < count; ++k) ft__ids_add(&t->ids, tokens.ids[k]);
        if (count == 0) ft__ids_add(&t->ids, tokenizer->unknown > 0 ? tokenizer->unknown : 0);
        t->ids_start[i + 1] = t->ids.count;
        if (count > t->longest) t->longest = count;
    }
    if (t->longest < 1) t->longest = 1;
}

/* ---- The source ---- */
static int ft__texts_length(void *user, int index)
{
    const ft__texts *t = (const ft__texts *)user;
    return (int)(t->ids_start[index + 1] - t->ids_start[index]);
}

static bool ft__texts_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__texts *t = (const ft__texts *)user;
    const int32_t *ids = t->ids.values + t->ids_start[index];
    int length = ft__texts_length(user, index), s;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        int32_t *to = (int32_t *)slots[s].values;
        if (slots[s].type != FT_I32) continue;
        if (!strcmp(slots[s].name, "tokens") && slots[s].shape.rank == 1) {
            if (slots[s].shape.size[0] < length) return false;
            memcpy(to, ids, (size_t)length * sizeof *to);
            slots[s].length = length;
        } else if (!strcmp(slots[s].name, "lengths") && slots[s].shape.rank == 0) *to = length;
        else if (!strcmp(slots[s].name, "labels") && slots[s].shape.rank == 0)
            *to = t->labels[index];
    }
    return true;
}

static int ft__texts_label(void *user, int index) { return ((ft__texts *)user)->labels[index]; }

static const char *ft__texts_name(void *user, int index) /* the text itself */
{
    return ft__one_text((const ft__texts *)user, index);
}

static const char *ft__texts_class_name(void *user, int c)
{
    return ft__piece_text(&((const ft__texts *)user)->classes, c);
}

static void ft__texts_release(void *user)
{
    ft__texts *t = (ft__texts *)user;
    ft__context *c = t->context;
    ft__release(c, t->ids_start);
    ft__release(c, t->ids.values);
    ft__vocabulary_release(&t->classes);
    ft__release(c, t->labels);
    ft__release(c, t->start);
    ft__release(c, t->letters.letters);
    ft__release(c, t);
}

/* Reads what the path, or the memory, holds; without classes sorted and without tokens. */
static ft__texts *ft__texts_read(ft_model *m, const char *path, const ft_text_options *o)
{
    ft__context *c = &m->context;
    ft__texts *t = (ft__texts *)ft__allocate(c, 1, sizeof *t);
    unsigned char *content;
    size_t bytes;
    if (!t) return NULL;
    t->context = t->letters.context = t->ids.context = c;
    t->classes.context = t->classes.letters.context = c;
    if (!path) path = "(memory)";
    if (o->memory) ft__read_table_file(t, path, (const char *)o->memory, o->bytes, o);
    else if (ft__is_folder(c, path)) ft__read_text_folder(t, path);
    else {
        content = ft__read_file(c, path, &bytes);
        if (content) ft__read_table_file(t, path, (const char *)content, bytes, o);
        ft__release(c, content);
    }
    if (t->count == 0) ft__fail(c, FT_FORMAT, "%s: no texts", path);
    return t;
}

/* Keeps `most` of each class, drawn by the seed; the order of the file stays. */
static void ft__keep_per_class(ft__texts *t, int most, uint64_t seed)
{
    ft__context *c = t->context;
    int *order = (int *)ft__allocate(c, 2 * (size_t)t->count + 1, sizeof *order), i, kept = 0;
    int *taken = (int *)ft__allocate(c, (size_t)t->classes.count + 1, sizeof *taken);
    char *keep = (char *)ft__allocate(c, (size_t)t->count + 1, 1);
    if (ft__ok(c)) {
        ft__shuffle(order, t->count, ft__key(seed, 0, 0, FT__USE_PER_CLASS));
        for (i = 0; i < t->count; ++i)
            if (taken[t->labels[order[i]]]++ < most) keep[order[i]] = 1;
        for (i = 0; i < t->count; ++i) {
            if (!keep[i]) continue;
            t->start[kept] = t->start[i];
            t->labels[kept++] = t->labels[i];
        }
        t->count = kept;
    }
    ft__release(c, keep);
    ft__release(c, taken);
    ft__release(c, order);
}

ft_data *ft_texts(ft_model *m, const char *path, ft_text_options options)
{
    ft__context *c;
    ft__texts *t;
    ft_tokenizer *tokenizer;
    ft_source source;
    ft_data *data = NULL;
    if (!m || !ft__ok(&m->context)) return NULL;
    c = &m->context;
    t = ft__texts_read(m, path, &options);
    if (!t) return NULL;
    if (ft__ok(c)) ft__sort_classes(m, t, options.match_classes);
    if (ft__ok(c) && options.per_class > 0) ft__keep_per_class(t, options.per_class, c->desc.seed);
    tokenizer = ft__ok(c) ? ft__tokenizer_for(m, t, options.tokenizer, FT_WORDS,
                                              options.vocabulary) : NULL;
    if (tokenizer && tokenizer != m->tokenizer) ft_set_tokenizer(m, tokenizer);
    if (tokenizer) ft__tokenize_texts(t, tokenizer, options.longest > 0 ? options.longest : 512);
    memset(&source, 0, sizeof source);
    source.user = t;
    source.count = t->count;
    source.classes = t->classes.count;
    source.get = ft__texts_get;
    source.label = ft__texts_label;
    source.name = ft__texts_name;
    source.class_name = ft__texts_class_name;
    source.length = ft__texts_length;
    source.release = ft__texts_release;
    if (ft__ok(c)) data = ft_data_source(m, source);
    if (!data) ft__texts_release(t);
    return data;
}

/* =============================================================================================
   [SECTION] 14.2.3 Streams of text
   For language models: a text is cut into as many streams of equal length as a batch has rows; each
   batch holds the next steps of all of them, and the state that a recurrent network is left in
   after one is carried into the next (Zaremba et al. 2014; truncated back-propagation, Williams
   and Peng 1990). The label of a step is the token after it.
   ============================================================================================= */
typedef struct ft__streams {
    ft__context *context;
    ft__ids ids;
    int rows, steps;
    size_t each;            /* steps of a stream in all */
    char name[40];          /* says what the tokens are: runs on other texts are told apart by it */
} ft__streams;

static int ft__streams_length(void *user, int index)
{
    const ft__streams *s = (const ft__streams *)user;
    size_t left = s->each - (size_t)(index / s->rows) * (size_t)s->steps;
    return left < (size_t)s->steps ? (int)left : s->steps;
}

static bool ft__streams_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__streams *s = (const ft__streams *)user;
    const int32_t *ids = s->ids.values + (size_t)(index % s->rows) * s->each
        + (size_t)(index / s->rows) * (size_t)s->steps;
    int length = ft__streams_length(user, index), i, k;
    (void)view;
    for (i = 0; i < slot_count; ++i) {
        int32_t *to = (int32_t *)slots[i].values;
        bool tokens = !strcmp(slots[i].name, "tokens");
        if (slots[i].type != FT_I32) continue;
        if (slots[i].shape.rank == 0 && !strcmp(slots[i].name, "lengths")) *to = length;
        if (slots[i].shape.rank != 1 || (!tokens && strcmp(slots[i].name, "labels") != 0)) continue;
        if (slots[i].shape.size[0] < length) return false;
        for (k = 0; k < slots[i].shape.size[0]; ++k)
            to[k] = k < length ? ids[k + (tokens ? 0 : 1)] : tokens ? 0 : -1;
        slots[i].length = length;
    }
    return true;
}

static const char *ft__streams_name(void *user, int index)
{
    (void)index;
    return ((const ft__streams *)user)->name;
}

static void ft__streams_release(void *user)
{
    ft__streams *s = (ft__streams *)user;
    ft__context *c = s->context;
    ft__release(c, s->ids.values);
    ft__release(c, s);
}

/* Adds the tokens of a text: words line by line with the end piece behind each line, since a
   vocabulary of words has no piece for the end of a line; other kinds as it stands. */
static void ft__streams_add(ft__streams *s, ft_tokenizer *t, const char *text, size_t bytes)
{
    ft_tokenize_options plain = {false};
    bool lines = t->kind == FT_WORDS || t->kind == FT_WORDPIECE;
    const char *line = text;
    size_t at = 0, count = bytes;
    int i;
    while (lines ? ft__next_line(text, bytes, &at, &line, &count) : at++ == 0) {
        ft_tokens tokens = ft_tokenize(t, line, count, plain);
        for (i = 0; i < tokens.count; ++i) ft__ids_add(&s->ids, tokens.ids[i]);
        if (lines && t->end >= 0 && ft__ok(s->context)) ft__ids_add(&s->ids, t->end);
    }
}

static void ft__streams_fill(ft__streams *s, ft_tokenizer *tokenizer, const ft__texts *t,
                             const char *path)
{
    int newline = ft__find_piece(tokenizer, "\n"), i;
    for (i = 0; i < t->count && ft__ok(s->context); ++i) {
        const char *text = ft__one_text(t, i);
        ft__streams_add(s, tokenizer, text, strlen(text));
        if (t->count > 1 && tokenizer->kind == FT_CHARACTERS && newline >= 0)
            ft__ids_add(&s->ids, newline);
    }
    if (!ft__ok(s->context)) return;
    s->each = s->ids.count > 0 ? (s->ids.count - 1) / (size_t)s->rows : 0;
    if (s->each < 1 || s->each / (size_t)s->steps >= (size_t)(INT_MAX / s->rows - 1))
        ft__fail(s->context, FT_INVALID, "%s: %zu tokens cannot be cut into %d streams", path,
                 s->ids.count, s->rows);
    snprintf(s->name, sizeof s->name, "%zu tokens %016llx", s->ids.count, (unsigned long long)
             ft__hash_bytes(0, s->ids.values, s->ids.count * sizeof *s->ids.values));
}

/* The texts to cut: a column of a table, or a whole file as one. */
static ft__texts *ft__streams_read(ft_model *m, const char *path, const ft_stream_options *o)
{
    ft_text_options table;
    ft__context *c = &m->context;
    ft__texts *t;
    unsigned char *content = NULL;
    size_t bytes = o->bytes;
    memset(&table, 0, sizeof table);
    table.memory = o->memory;
    table.bytes = o->bytes;
    table.text_column = o->text_column;
    table.format = o->format;
    table.unlabelled = true;
    if (o->text_column) return ft__texts_read(m, path, &table);
    t = (ft__texts *)ft__allocate(c, 1, sizeof *t);
    if (!t) return NULL;
    t->context = t->letters.context = t->ids.context = c;
    t->classes.context = t->classes.letters.context = c;
    if (!o->memory) content = ft__read_file(c, path, &bytes);
    if (ft__ok(c)) ft__texts_add(t, content ? (const char *)content : (const char *)o->memory,
                                 bytes, "");
    ft__release(c, content);
    return t;
}

ft_data *ft_text_streams(ft_model *m, const char *path, ft_stream_options options)
{
    ft__context *c;
    ft__streams *s;
    ft__texts *t;
    ft_tokenizer *tokenizer = NULL;
    ft_source source;
    ft_data *data = NULL;
    if (!m || !ft__ok(&m->context)) return NULL;
    c = &m->context;
    t = ft__streams_read(m, path, &options);
    s = (ft__streams *)ft__allocate(c, 1, sizeof *s);
    memset(&source, 0, sizeof source);
    if (s) {
        s->context = s->ids.context = c;
        s->rows = options.streams > 0 ? options.streams : 32;
        s->steps = options.steps > 0 ? options.steps : 64;
        tokenizer = ft__tokenizer_for(m, t, options.tokenizer, options.vocabulary_kind,
                                      options.vocabulary);
    }
    if (tokenizer && tokenizer != m->tokenizer) ft_set_tokenizer(m, tokenizer);
    if (tokenizer) ft__streams_fill(s, tokenizer, t, path ? path : "(memory)");
    if (t) ft__texts_release(t);
    if (ft__ok(c)) {
        source.user = s;
        source.count = (int)((s->each + (size_t)s->steps - 1) / (size_t)s->steps) * s->rows;
        source.streams = s->rows;
        source.get = ft__streams_get;
        source.name = ft__streams_name;
        source.length = ft__streams_length;
        source.release = ft__streams_release;
        data = ft_data_source(m, source);
    }
    if (!data && s) ft__streams_release(s);
    return data;
}

/* =============================================================================================
   [SECTION] 14.3 Metrics
   ============================================================================================= */

/* Wilson 1927: the interval in which the true share lies with 95 % confidence, from `correct` of
   `total`; unlike the usual plus-or-minus it stays within [0, 1] and is right for small sets. */
static void ft__wilson(int correct, int total, double *low, double *high)
{
    const double z = 1.959963984540054; /* the normal distribution's 97.5 % quantile */
    double n = total, p, middle, half;
    *low = 0;
    *high = 1;
    if (total < 1) return;
    p = correct / n;
    middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    *low = middle - half > 0 ? middle - half : 0;
    *high = middle + half < 1 ? middle + half : 1;
}

/* The first of the largest of `count` scores. */
static int ft__largest(const float *scores, int count)
{
    int best = 0, i;
    for (i = 1; i < count; ++i)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* Sums over samples; what an epoch or an evaluation reports. */
typedef struct ft__score { double loss; int64_t correct, total; } ft__score;

/* Adds a batch that was just run: its mean loss over the labels that count, and how many of them
   the output got right. Without labels each sample counts. */
static void ft__score_batch(ft_model *m, const ft__plan *plan, int batch, float loss,
                            int *confusion, ft__score *score)
{
    const ft__node *output = ft__get_node(m, m->output), *loss_node = ft__get_node(m, m->loss);
    const ft__node *labels = NULL;
    const float *logits = m->output.id ? plan->values[m->output.id - 1] : NULL;
    size_t count = 0, i;
    int classes, counted = 0;
    if (logits)
        ft__to_host(&m->context, logits,
                    ft__node_count_at(output, ft__extent_of(m, batch)) * sizeof(float));
    if (loss_node && loss_node->input_count > 1) labels = &m->nodes[loss_node->inputs[1] - 1];
    if (labels && labels->type == FT_I32 && logits && output->shape.rank >= 2)
        count = ft__node_count_at(labels, ft__extent_of(m, batch));
    classes = output ? output->shape.size[output->shape.rank - 1] : 0;
    for (i = 0; i < count; ++i) {
        int label = ((const int32_t *)(const void *)labels->value)[i];
        int guess = ft__largest(logits + i * (size_t)classes, classes);
        if (ft__is_ignored(label)) continue;
        counted += 1;
        if (guess == label) score->correct += 1;
        if (confusion && label >= 0 && label < classes) confusion[label * classes + guess] += 1;
    }
    if (count == 0) counted = batch;
    score->loss += (double)loss * counted;
    score->total += counted;
}

/* The classes of data and model must be the same number before they meet. */
static ft_status ft__check_classes(ft_model *m, const ft_data *data)
{
    const ft__node *output = ft__get_node(m, m->output);
    int has = ft_data_classes(data);
    if (!ft__ok(&m->context) || !output || output->shape.rank != 2 || has == 0)
        return m->context.status;
    if (has > output->shape.size[1])
        return ft__fail(&m->context, FT_SHAPE, "the data has %d classes, the network's output %d:"
                        " call ft_replace_head", has, output->shape.size[1]);
    return FT_OK;
}

/* =============================================================================================
   [SECTION] 14.4 Fit
   One run: its samples, and the cache of the frozen prefix. The order of an epoch is a function of
   (seed, epoch), a sample's view of (sample, epoch), so that a run that goes on from a checkpoint
   sees what the run left alone would have seen.
   ============================================================================================= */
typedef struct ft__cache {  /* outputs of the frozen prefix, one row per (sample, view) */
    int *nodes;             /* what the trained steps read from before them; labels too */
    int node_count;
    size_t row;             /* numbers in a row */
    int views;
    float *values;          /* [sample of the data][view][row]; on disk: of one row */
    int *record;            /* [sample][view]: 1 + its place in the file; 0: it cannot be read */
    int rows;               /* samples * views, the plain one among them */
    uint64_t *keys;         /* [sample][view], where rows are kept; 0: not wanted */
    ft__row_file file;
    bool on, on_disk, damaged;
} ft__cache;

typedef struct ft__place_in_run { /* everything that a checkpoint says of where a run stands */
    int epoch, step;        /* the next to be done */
    ft__score score;        /* of this epoch so far */
    ft__score last;         /* of the last whole epoch */
    int best_epoch;
    ft__score best;         /* held-back, at the best epoch */
    ft__score held;         /* held-back, at the last */
    bool done;
} ft__place_in_run;

typedef struct ft__fit {
    ft_model *m;
    ft_data *data;
    ft_fit_options o;
    ft__plan *plan;
    ft__loader *loader;
    ft__cache cache;
    int *train, *held, *order, *views;
    int *work;              /* [2 * samples], for ft__bucket */
    int train_count, held_count;
    int steps;              /* in an epoch */
    const char *note;       /* carried in the checkpoint for whoever runs several fits in a row */
    uint64_t settings;      /* a hash of what must be equal for a checkpoint to be continued */
    ft__place_in_run at;
    ft_fit_result result;
    bool resume;            /* from the checkpoint, if there is one; else it is written over */
    bool stopped;
} ft__fit;

static ft_fit_options ft__fit_defaults(ft_fit_options o)
{
    if (o.epochs <= 0) o.epochs = 10;
    if (o.batch_size <= 0) o.batch_size = 32;
    if (o.step_epochs <= 0) o.step_epochs = 10;
    if (o.gamma == 0) o.gamma = 0.1f;
    if (o.views <= 0) o.views = 8;
    if (o.views > o.epochs) o.views = o.epochs; /* an epoch uses one */
    if (o.cache_bytes == 0) o.cache_bytes = (size_t)1 << 30;
    if (!o.stage) o.stage = "fit";
    o.optimizer = ft__optimizer_defaults(o.optimizer);
    return o;
}

/* ---- Which samples ---- */

static ft_status ft__fit_samples(ft__fit *f)
{
    ft__context *c = &f->m->context;
    int count = ft_data_count(f->data), i;
    int *part = (int *)ft__allocate(c, (size_t)count + 1, sizeof *part);
    f->train = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->train);
    f->held = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->held);
    f->order = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->order);
    f->views = (int *)ft__allocate(c, (size_t)count + 1, sizeof *f->views);
    f->work = (int *)ft__allocate(c, 2 * (size_t)count + 1, sizeof *f->work);
    if (ft__ok(c) && f->o.hold_back > 0)
        ft__split(f->data, f->o.hold_back, c->desc.seed, part);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        if (part[i]) f->held[f->held_count++] = i;
        else f->train[f->train_count++] = i;
    }
    ft__release(c, part);
    if (ft__ok(c) && f->train_count == 0)
        ft__fail(c, FT_INVALID, "no samples are left to train on");
    f->steps = (f->train_count + f->o.batch_size - 1) / f->o.batch_size;
    /* A last batch of one sample gives batch norm nothing to take a variance of: it is left out. */
    if (f->steps > 1 && f->train_count % f->o.batch_size == 1) f->steps -= 1;
    return c->status;
}

/* ---- The cache of the frozen prefix ---- */

static bool ft__cache_lists(const ft__cache *cache, int id)
{
    int i;
    for (i = 0; i < cache->node_count; ++i)
        if (cache->nodes[i] == id) return true;
    return false;
}

/* Whether outputs of the frozen prefix are kept for the next run: not a device's, whose bits are
   not this processor's. */
static bool ft__keeps_rows(const ft__fit *f)
{
    const ft__context *c = &f->m->context;
    return c->desc.cache && !c->device && f->data->source.digest;
}

/* Finds what crosses from the frozen prefix into the trained steps, and decides whether keeping it
   pays: not when the prefix is empty, when views never repeat, or when it would not fit. */
static ft_status ft__cache_plan(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    ft__cache *cache = &f->cache;
    size_t bytes = 0, rows = (size_t)ft_data_count(f->data);
    int i, j;
    if (f->o.no_cache || f->plan->first_trained == 0) return c->status;
    cache->views = f->o.augment ? f->o.views : 1;
    cache->nodes = (int *)ft__allocate(c, (size_t)m->node_count + 1, sizeof *cache->nodes);
    if (!cache->nodes) return c->status;
    for (i = f->plan->first_trained; i < f->plan->step_count; ++i) {
        const ft__node *node = &m->nodes[f->plan->steps[i].id - 1];
        for (j = 0; j < node->input_count; ++j) {
            int id = node->inputs[j];
            if (f->plan->trained[id - 1] || ft__is_weight(&m->nodes[id - 1])) continue;
            if (ft__cache_lists(cache, id)) continue;
            if (ft__has_length(&m->nodes[id - 1])) return c->status; /* rows differ in length */
            cache->nodes[cache->node_count++] = id;
            cache->row += ft__node_count_at(&m->nodes[id - 1], ft__one);
        }
    }
    rows *= (size_t)(cache->views + (f->o.augment ? 1 : 0)); /* held-back samples: the plain view */
    cache->on_disk = !ft__multiply(rows, cache->row * sizeof(float), &bytes)
        || bytes > f->o.cache_bytes || bytes > ft__memory_left(c) / 2;
    if (rows > INT_MAX / 4 || (cache->on_disk && !ft__keeps_rows(f))) {
        ft__log(c, "the outputs of the frozen layers would take %zu MB: they are computed anew in"
                " each epoch", bytes >> 20);
        return c->status;
    }
    cache->rows = (int)rows;
    cache->values = (float *)ft__allocate(c, cache->on_disk ? 1 : rows,
                                          cache->row * sizeof(float));
    cache->record = (int *)ft__allocate(c, rows, sizeof *cache->record);
    cache->on = ft__ok(c);
    return c->status;
}

static size_t ft__cache_row(const ft__fit *f, int sample, int view)
{
    int views = f->cache.views + (f->o.augment ? 1 : 0);
    return (size_t)sample * (size_t)views + (size_t)(f->o.augment ? view : 0);
}

/* ---- Keys: what the outputs of the frozen layers are made from ---- */
typedef struct ft__prefix_hash { const ft__fit *f; uint64_t *steps; } ft__prefix_hash;

static uint64_t ft__hash_node(const ft__fit *f, uint64_t hash, int id, ft__text *text)
{
    ft_model *m = f->m;
    const ft__node *node = &m->nodes[id - 1];
    const ft__field *field = ft__rows[node->op].fields;
    int i;
    hash = ft__key(hash, (uint64_t)id, (uint64_t)node->op, 0);
    hash = ft__hash_bytes(hash, &node->shape, sizeof node->shape);
    for (text->count = 0; field && field->name; ++field)
        ft__write_field(text, field, &node->options);
    if (text->count) hash = ft__hash_bytes(hash, text->letters, text->count);
    for (i = 0; i < node->input_count; ++i) {
        const ft__node *input = &m->nodes[node->inputs[i] - 1];
        hash = ft__key(hash, (uint64_t)node->inputs[i], (uint64_t)input->op, 0);
        if (input->op == FT__OP_input)
            hash = ft__hash_bytes(hash, input->name, strlen(input->name));
    }
    return hash;
}

/* The weights of one step, on any thread. */
static void ft__hash_weights(void *context, int step)
{
    const ft__prefix_hash *p = (const ft__prefix_hash *)context;
    const ft_model *m = p->f->m;
    int ids[3], i, j;
    ids[0] = p->f->plan->steps[step].id;
    ids[1] = p->f->plan->steps[step].norm;
    ids[2] = p->f->plan->steps[step].activation;
    for (i = 0; i < 3; ++i) {
        const ft__node *node = ids[i] ? &m->nodes[ids[i] - 1] : NULL;
        for (j = 0; node && j < node->input_count; ++j) {
            const ft__node *input = &m->nodes[node->inputs[j] - 1];
            if (ft__is_weight(input))
                p->steps[step] = ft__hash_bytes(p->steps[step], input->value,
                                                ft__node_count_at(input, ft__one) * sizeof(float));
        }
    }
}

/* A hash of the frozen prefix: its operators, options and weights, and how they are computed. */
static uint64_t ft__prefix_key(const ft__fit *f)
{
    ft__context *c = &f->m->context;
    uint64_t hash = ft__hash_bytes((uint64_t)c->simd, FINETUNE_VERSION, sizeof FINETUNE_VERSION);
    ft__prefix_hash p;
    ft__text text;
    int i;
    memset(&text, 0, sizeof text);
    text.context = c;
    p.f = f;
    p.steps = (uint64_t *)ft__allocate(c, (size_t)f->plan->first_trained + 1, sizeof *p.steps);
    if (p.steps) ft__parallel(c, f->plan->first_trained, ft__hash_weights, &p);
    for (i = 0; ft__ok(c) && i < f->plan->first_trained; ++i) {
        const ft__step *step = &f->plan->steps[i];
        hash = ft__hash_node(f, hash ^ p.steps[i], step->id, &text);
        if (step->norm) hash = ft__hash_node(f, hash, step->norm, &text);
        if (step->activation) hash = ft__hash_node(f, hash, step->activation, &text);
    }
    for (i = 0; i < f->cache.node_count; ++i)
        hash = ft__key(hash, (uint64_t)f->cache.nodes[i], 0, 0);
    ft__release(c, text.letters);
    ft__release(c, p.steps);
    return hash;
}

static void ft__cache_keys(ft__fit *f, const int *samples, int count, int view)
{
    const ft_source *source = &f->data->source;
    int i;
    for (i = 0; i < count; ++i) {
        uint64_t key = source->digest(source->user, samples[i], view);
        f->cache.keys[ft__cache_row(f, samples[i], view)] = key ? key : 1;
    }
}

/* ---- Rows from the last run, and for the next ---- */

/* Takes from the file what is wanted and sound. Returns how many rows. */
static int ft__cache_load(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    ft__key_table table;
    uint64_t at, key;
    int row, same, taken = 0;
    if (!ft__key_table_make(&f->m->context, &table, cache->keys, cache->rows)
        || !ft__rows_open(&cache->file)) cache->file.count = 0;
    for (at = 0; at < cache->file.count && ft__rows_key(&cache->file, at, &key); ++at) {
        float *to;
        if ((row = ft__key_find(&table, key)) < 0 || cache->record[row]) continue;
        to = cache->values + (cache->on_disk ? 0 : (size_t)row * cache->row);
        if (!ft__rows_read(&cache->file, at, key, to)) {
            if (!cache->damaged)
                ft__log(&f->m->context, "%s: damaged: what is missing is made anew",
                        cache->file.path);
            cache->damaged = true;
            continue;
        }
        for (same = row; same >= 0; same = table.next[same]) {
            if (!cache->on_disk && same != row)
                memcpy(cache->values + (size_t)same * cache->row, to, cache->row * sizeof *to);
            cache->record[same] = 1 + (int)at;
            taken += 1;
        }
    }
    ft__key_table_free(&f->m->context, &table);
    return taken;
}

/* Begins the new file of a cache on disk, with what was found in the old one. */
static bool ft__cache_begin_file(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    ft__row_file old = cache->file;
    bool written = ft__rows_create(&cache->file);
    int row;
    for (row = 0; written && row < cache->rows; ++row) {
        if (!cache->record[row]) continue;
        written = ft__rows_read(&old, (uint64_t)cache->record[row] - 1, cache->keys[row],
                                cache->values)
            && ft__rows_add(&cache->file, cache->keys[row], cache->values);
        cache->record[row] = (int)cache->file.count;
    }
    if (old.file) f->m->context.desc.files.close(f->m->context.desc.files.user, old.file);
    if (!written && cache->file.file) ft__rows_finish(&cache->file, false);
    return written;
}

/* Writes a cache in memory down. */
static void ft__cache_write(ft__fit *f)
{
    ft__cache *cache = &f->cache;
    bool written = true;
    int row;
    ft__rows_close(&cache->file);
    if (!ft__rows_create(&cache->file)) return;
    for (row = 0; written && row < cache->rows; ++row)
        if (cache->record[row] && cache->keys[row])
            written = ft__rows_add(&cache->file, cache->keys[row],
                                   cache->values + (size_t)row * cache->row);
    ft__rows_finish(&cache->file, written);
}

/* The memory of a node's value in the plan, and how many numbers a sample has. */
static float *ft__boundary(const ft__fit *f, int id, size_t *count)
{
    const ft__node *node = &f->m->nodes[id - 1];
    *count = ft__node_count_at(node, ft__one);
    return ft__is_leaf(node) ? node->value : f->plan->values[id - 1];
}

/* Copies place `slot` of the plan's batch to a row of the cache; false: the disk is full. */
static bool ft__cache_put(ft__fit *f, size_t row, int slot)
{
    ft__cache *cache = &f->cache;
    float *at = cache->values + (cache->on_disk ? 0 : row * cache->row);
    int i;
    for (i = 0; i < cache->node_count; ++i) {
        size_t count;
        const float *value = ft__boundary(f, cache->nodes[i], &count);
        memcpy(at, value + (size_t)slot * count, count * sizeof *at);
        at += count;
    }
    if (cache->on_disk && !ft__rows_add(&cache->file, cache->keys[row], cache->values))
        return false;
    cache->record[row] = cache->on_disk ? (int)cache->file.count : 1;
    return true;
}

/* And back. What lies on the disk is checked each time. */
static void ft__cache_get(ft__fit *f, size_t row, int slot)
{
    const ft__cache *cache = &f->cache;
    const float *at = cache->values + (cache->on_disk ? 0 : row * cache->row);
    int i;
    if (cache->on_disk && !ft__rows_read(&cache->file, (uint64_t)cache->record[row] - 1,
                                         cache->keys[row], cache->values))
        ft__fail(&f->m->context, FT_IO, "%s: changed while it was in use", cache->file.path);
    for (i = 0; i < cache->node_count; ++i) {
        size_t count;
        float *value = ft__boundary(f, cache->nodes[i], &count);
        ft__host_wrote(&f->m->context, value);
        memcpy(value + (size_t)slot * count, at, count * sizeof *at);
        at += count;
    }
}

/* ---- Filling it ---- */

/* Before rows are copied from the plan's batch: they may be on a device. */
static void ft__cache_fetch(ft__fit *f, int batch)
{
    int i;
    for (i = 0; i < f->cache.node_count; ++i) {
        size_t count;
        float *value = ft__boundary(f, f->cache.nodes[i], &count);
        ft__to_host(&f->m->context, value, count * (size_t)batch * sizeof *value);
    }
}

/* Runs the frozen prefix over the samples whose rows of this view are missing; false: they could
   not be put away. */
static bool ft__cache_fill_view(ft__fit *f, const int *samples, int count, int view)
{
    const ft__batch *batch;
    bool put = true;
    int i, missing = 0;
    for (i = 0; i < count; ++i) {
        if (f->cache.record[ft__cache_row(f, samples[i], view)]) continue;
        f->views[missing] = view;
        f->order[missing++] = samples[i];
    }
    if (!missing) return true;
    ft__loader_start(f->loader, f->order, f->views, missing);
    while (put && ft__ok(&f->m->context) && (batch = ft__loader_next(f->loader)) != NULL) {
        if (batch->count > 0) {
            ft__feed_batch(f->m, f->loader, batch);
            ft__run_forward(f->m, f->plan, 0, f->plan->first_trained, batch->count, 0);
            ft__cache_fetch(f, batch->count);
        }
        for (i = 0; put && i < batch->count; ++i)
            put = ft__cache_put(f, ft__cache_row(f, batch->index[i], view), i);
        ft__loader_release(f->loader);
    }
    return put;
}

static void ft__cache_release(ft__context *c, ft__cache *cache)
{
    ft__rows_free(&cache->file);
    ft__release(c, cache->keys);
    ft__release(c, cache->record);
    ft__release(c, cache->values);
    ft__release(c, cache->nodes);
    memset(cache, 0, sizeof *cache);
}

/* What feeds the plan with samples: only where some must go through the frozen prefix. */
static ft_status ft__fit_loader(ft__fit *f)
{
    ft__data_decode(f->data);
    f->loader = ft__loader_create(f->m, f->data, f->o.batch_size);
    return f->m->context.status;
}

/* Finds the file of the last run, and what it has. */
static int ft__cache_find(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft__cache *cache = &f->cache;
    const ft__folder *folder = f->data->folder;
    uint64_t id = ft__key(cache->row, (uint64_t)cache->views, f->o.augment ? 1 : 0, 0);
    int view, taken = 0;
    if (folder) id = ft__hash_bytes(id, folder->path, strlen(folder->path));
    cache->keys = (uint64_t *)ft__allocate(c, (size_t)cache->rows, sizeof *cache->keys);
    if (!ft__ok(c)) return 0;
    ft__cache_keys(f, f->held, f->held_count, 0);
    for (view = f->o.augment ? 1 : 0; view <= (f->o.augment ? cache->views : 0); ++view)
        ft__cache_keys(f, f->train, f->train_count, view);
    if (ft__rows_make(&cache->file, c, "features", id, ft__prefix_key(f), cache->row))
        taken = ft__cache_load(f);
    if (taken) ft__log(c, "%s: %d outputs of the frozen layers are those of an earlier run",
                       cache->file.path, taken);
    return taken;
}

static ft_status ft__cache_fill(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft__cache *cache = &f->cache;
    int view, views = f->o.augment ? f->cache.views : 1, taken = 0;
    bool put = true;
    if (!cache->on || !ft__ok(c)) return c->status;
    if (ft__keeps_rows(f)) taken = ft__cache_find(f);
    if (taken == f->held_count + f->train_count * views) return c->status;
    if (ft__fit_loader(f) != FT_OK) return c->status;
    if (cache->on_disk) put = ft__cache_begin_file(f);
    if (put) put = ft__cache_fill_view(f, f->held, f->held_count, 0);
    for (view = f->o.augment ? 1 : 0; put && view < views + (f->o.augment ? 1 : 0); ++view)
        put = ft__cache_fill_view(f, f->train, f->train_count, view);
    if (!cache->on_disk && ft__keeps_rows(f) && ft__ok(c)) ft__cache_write(f);
    if (!cache->on_disk || !ft__ok(c)) return c->status;
    if (cache->file.file) put = ft__rows_finish(&cache->file, put);
    if (put && ft__rows_open(&cache->file)) return c->status;
    ft__log(c, "the outputs of the frozen layers are computed anew in each epoch");
    cache->on = false;
    return c->status;
}

/* =============================================================================================
   [SECTION] 14.4.1 The run
   Batches from the loader or the cache, checkpoints, and the loop over steps and epochs.
   ============================================================================================= */

/* ---- Batches ---- */

/* Puts the next batch of a list of samples into the plan, by the loader or from the cache; returns
   how many samples it has, -1 at the end of the list. `*at` counts the samples handed out. */
static int ft__fit_batch(ft__fit *f, const int *samples, const int *views, int count, int *at)
{
    const ft__batch *batch;
    int size = f->o.batch_size, from = *at, i, filled = 0;
    if (from >= count || !ft__ok(&f->m->context)) return -1;
    if (count - from < size) size = count - from;
    *at = from + size;
    if (f->cache.on) {
        for (i = from; i < from + size; ++i) {
            size_t row = ft__cache_row(f, samples[i], views[i]);
            if (f->cache.record[row]) ft__cache_get(f, row, filled++);
        }
        return filled;
    }
    batch = ft__loader_next(f->loader);
    if (!batch) return -1;
    if (batch->count > 0) {
        ft__feed_batch(f->m, f->loader, batch);
        ft__run_forward(f->m, f->plan, 0, f->plan->first_trained, batch->count, 0);
    }
    filled = batch->count;
    ft__loader_release(f->loader);
    return filled;
}

static void ft__fit_start(ft__fit *f, const int *samples, const int *views, int from, int count)
{
    if (!f->cache.on && from < count)
        ft__loader_start(f->loader, samples + from, views + from, count - from);
}

/* The order and views of an epoch. */
static void ft__fit_order(ft__fit *f, int epoch)
{
    const ft_source *source = &f->data->source;
    uint64_t seed = f->m->context.desc.seed;
    uint64_t key = ft__key(seed, (uint64_t)epoch, 0, FT__USE_ORDER);
    int i;
    if (source->streams == 0) ft__shuffle(f->order, f->train_count, key);
    else for (i = 0; i < f->train_count; ++i) f->order[i] = i;
    for (i = 0; i < f->train_count; ++i) f->order[i] = f->train[f->order[i]];
    ft__bucket(source, f->order, f->train_count, f->o.batch_size,
               ft__key(seed, (uint64_t)epoch, 1, FT__USE_ORDER), f->work);
    for (i = 0; i < f->train_count; ++i) {
        f->views[i] = !f->o.augment ? 0 : f->cache.on ? 1 + epoch % f->cache.views : 1 + epoch;
    }
}

/* ---- Weights kept aside ---- */

/* What training changes: trained parameters, and the statistics of batch norms that are trained. */
static bool ft__changes(const ft_model *m, const ft__node *node)
{
    return ft__is_weight(node) && !ft__node_is_frozen(m, node);
}

/* Copies all that changes aside, or back. */
static ft_status ft__keep_weights(ft_model *m, bool back)
{
    int i;
    ft__host_takes_weights(&m->context, back);
    for (i = 0; i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        size_t count;
        if (!ft__changes(m, node)) continue;
        count = ft__node_count_at(node, ft__one);
        if (!node->kept && !back)
            node->kept = (float *)ft__allocate(&m->context, count, sizeof(float));
        if (!node->kept) continue;
        memcpy(back ? node->value : node->kept, back ? node->kept : node->value,
               count * sizeof(float));
    }
    if (back) m->weights_version += 1;
    return m->context.status;
}

/* ---- Checkpoints ---- */

static uint64_t ft__hash_number(uint64_t hash, double number)
{
    return ft__hash_bytes(hash, &number, sizeof number);
}

/* What must be the same for a run to be continued: its options, its data, its network, and what is
   frozen. Threads, device and file names may change. */
static uint64_t ft__fit_settings(const ft__fit *f)
{
    const ft_fit_options *o = &f->o;
    const ft_optimizer_options *p = &o->optimizer;
    double numbers[22] = {0};
    uint64_t hash = f->m->context.desc.seed;
    int n = 0, i;
    numbers[n++] = o->epochs;
    numbers[n++] = o->batch_size;
    numbers[n++] = o->schedule;
    numbers[n++] = o->step_epochs;
    numbers[n++] = (double)o->gamma;
    numbers[n++] = (double)o->warmup_epochs;
    numbers[n++] = (double)o->hold_back;
    numbers[n++] = o->best;
    numbers[n++] = o->patience;
    numbers[n++] = o->views;
    numbers[n++] = o->augment;
    numbers[n++] = p->optimizer;
    numbers[n++] = (double)p->learning_rate;
    numbers[n++] = (double)p->momentum;
    numbers[n++] = p->nesterov;
    numbers[n++] = (double)p->beta1;
    numbers[n++] = (double)p->beta2;
    numbers[n++] = (double)p->eps;
    numbers[n++] = (double)p->weight_decay;
    numbers[n++] = (double)p->clip_norm;
    numbers[n++] = ft_data_count(f->data);
    numbers[n++] = ft_data_classes(f->data);
    hash = ft__hash_bytes(hash, numbers, sizeof numbers);
    for (i = 0; i < ft_data_count(f->data); ++i) {
        const char *name = ft_data_name(f->data, i);
        if (name) hash = ft__hash_bytes(hash, name, strlen(name));
    }
    for (i = 0; i < f->m->node_count; ++i) {
        const ft__node *node = &f->m->nodes[i];
        hash = ft__hash_bytes(hash, node->name, node->name ? strlen(node->name) : 0);
        hash = ft__hash_number(hash, node->op + 1000.0 * node->frozen);
        hash = ft__hash_number(hash, (double)node->learning_rate_factor);
        hash = ft__hash_number(hash, (double)node->weight_decay);
    }
    return hash;
}

/* Sums are doubles: written as the integers that have their bits, so that none is lost. */
static void ft__write_score(ft__text *text, const char *key, const ft__score *score)
{
    int64_t bits;
    memcpy(&bits, &score->loss, sizeof bits);
    ft__text_add(text, ",\"%s\":[%lld,%lld,%lld]", key, (long long)bits, (long long)score->correct,
                 (long long)score->total);
}

static ft_status ft__checkpoint_write(ft__fit *f)
{
    ft__context *c = &f->m->context;
    const ft__place_in_run *at = &f->at;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!ft__ok(c)) return c->status;
    ft__text_add(&text, "{\"stage\":");
    ft__json_add_text(&text, f->o.stage);
    ft__text_add(&text, ",\"note\":");
    ft__json_add_text(&text, f->note);
    ft__text_add(&text, ",\"settings\":\"%016llx\",\"frozen\":\"%016llx\"",
                 (unsigned long long)f->settings, (unsigned long long)f->result.before.frozen);
    ft__text_add(&text, ",\"simd\":%d,\"epoch\":%d,\"step\":%d,\"done\":%s,\"best_epoch\":%d",
                 c->simd, at->epoch, at->step, at->done ? "true" : "false", at->best_epoch);
    ft__text_add(&text, ",\"updates\":%llu,\"steps_made\":%llu",
                 (unsigned long long)f->m->optimizer->updates, (unsigned long long)f->m->step);
    ft__write_score(&text, "score", &at->score);
    ft__write_score(&text, "last", &at->last);
    ft__write_score(&text, "best", &at->best);
    ft__write_score(&text, "held", &at->held);
    ft__device_add_choices(c, &text);
    ft__text_add(&text, "}");
    if (ft__ok(c)) ft__write_model(f->m, f->o.checkpoint, FT_F32, text.letters, f->o.best);
    ft__release(c, text.letters);
    return c->status;
}

static bool ft__file_exists(const ft__context *c, const char *path)
{
    const ft_files *files = &c->desc.files;
    void *file = files->open(files->user, path, false);
    if (file) files->close(files->user, file);
    return file != NULL;
}

/* Opens a checkpoint and its description; false, without an error, when there is none. */
static bool ft__checkpoint_open(ft_model *m, const char *path, ft_file **file, ft__json **json)
{
    ft_weights_options options;
    const char *text;
    memset(&options, 0, sizeof options);
    *file = NULL;
    *json = NULL;
    if (!ft__ok(&m->context) || !ft__file_exists(&m->context, path)) return false;
    *file = ft_file_open(m, path, options);
    if (!*file) return false;
    text = ft_file_metadata(*file, ft__checkpoint_key);
    if (!text) ft__fail(&m->context, FT_FORMAT, "%s: a file, but not a checkpoint", path);
    else *json = ft__json_parse(&m->context, text, strlen(text));
    if (*json) return true;
    ft__fail(&m->context, FT_FORMAT, "%s: a damaged checkpoint", path);
    ft_file_close(*file);
    return false;
}

static int64_t ft__checkpoint_number(ft__json *json, const char *key)
{
    int64_t number = 0;
    ft__json_int(json, ft__json_member(json, 0, key), &number);
    return number;
}

static void ft__checkpoint_score(ft__json *json, const char *key, ft__score *score)
{
    int list = ft__json_member(json, 0, key);
    int64_t bits = 0;
    ft__json_int(json, ft__json_element(json, list, 0), &bits);
    memcpy(&score->loss, &bits, sizeof bits);
    ft__json_int(json, ft__json_element(json, list, 1), &score->correct);
    ft__json_int(json, ft__json_element(json, list, 2), &score->total);
}

/* Weights, then moments and kept weights by their labels. */
static ft_status ft__checkpoint_tensors(ft__fit *f, ft_file *file)
{
    ft_model *m = f->m;
    char name[640];
    int i, which;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node)) continue;
        for (which = -1; which < 3; ++which) {
            float *to = which < 0 ? node->value : *ft__state_of(node, which);
            int index;
            if (!to || (which == 2 && !f->o.best)) continue;
            snprintf(name, sizeof name, "%s%s", which < 0 ? "" : ft__state_labels[which],
                     node->name);
            index = ft_file_find(file, name);
            if (index < 0) return ft__fail(&m->context, FT_FORMAT, "%s: lacks %s", f->o.checkpoint,
                                           name);
            ft_file_read_f32(file, index, to, ft__node_count_at(node, ft__one));
        }
    }
    m->weights_version += 1;
    return m->context.status;
}

static void ft__checkpoint_state(ft__fit *f, ft_file *file, ft__json *json)
{
    ft__context *c = &f->m->context;
    ft__place_in_run *at = &f->at;
    const char *settings = ft__json_string(json, ft__json_member(json, 0, "settings"));
    const char *stage = ft__json_string(json, ft__json_member(json, 0, "stage"));
    char want[20];
    snprintf(want, sizeof want, "%016llx", (unsigned long long)f->settings);
    if (!settings || !stage || strcmp(settings, want) != 0 || strcmp(stage, f->o.stage) != 0) {
        ft__fail(c, FT_INVALID, "%s: is the checkpoint of a run with other options, data or"
                 " network: remove it, or give the options of then", f->o.checkpoint);
        return;
    }
    if (ft__checkpoint_number(json, "simd") != c->simd)
        ft__log(c, "%s was written on a processor with other SIMD instructions: the run goes on,"
                " but its last bits will differ", f->o.checkpoint);
    ft__device_read_choices(c, json, f->o.checkpoint);
    at->epoch = (int)ft__checkpoint_number(json, "epoch");
    at->step = (int)ft__checkpoint_number(json, "step");
    at->best_epoch = (int)ft__checkpoint_number(json, "best_epoch");
    at->done = ft__json_true(json, ft__json_member(json, 0, "done"));
    f->m->step = (uint64_t)ft__checkpoint_number(json, "steps_made");
    f->m->optimizer->updates = (uint64_t)ft__checkpoint_number(json, "updates");
    ft__checkpoint_score(json, "score", &at->score);
    ft__checkpoint_score(json, "last", &at->last);
    ft__checkpoint_score(json, "best", &at->best);
    ft__checkpoint_score(json, "held", &at->held);
    if (at->epoch < 0 || at->step < 0 || at->epoch > f->o.epochs || at->step > f->steps)
        ft__fail(c, FT_FORMAT, "%s: a damaged checkpoint", f->o.checkpoint);
    ft__checkpoint_tensors(f, file);
    if (ft__ok(c)) f->result.before = ft__digest(f->m);
}

/* Goes on where the checkpoint says, if there is one. */
static ft_status ft__checkpoint_read(ft__fit *f)
{
    ft_file *file;
    ft__json *json;
    if (!ft__checkpoint_open(f->m, f->o.checkpoint, &file, &json)) return f->m->context.status;
    ft__checkpoint_state(f, file, json);
    ft__json_free(&f->m->context, json);
    ft_file_close(file);
    return f->m->context.status;
}

/* The stage and note of a checkpoint; false when there is none. */
static bool ft__checkpoint_peek(ft_model *m, const char *path, char *stage, size_t stage_size,
                                char *note, size_t note_size)
{
    const char *stage_text, *note_text;
    ft_file *file;
    ft__json *json;
    if (!ft__checkpoint_open(m, path, &file, &json)) return false;
    stage_text = ft__json_string(json, ft__json_member(json, 0, "stage"));
    note_text = ft__json_string(json, ft__json_member(json, 0, "note"));
    snprintf(stage, stage_size, "%s", stage_text ? stage_text : "");
    snprintf(note, note_size, "%s", note_text ? note_text : "");
    ft__json_free(&m->context, json);
    ft_file_close(file);
    return true;
}

/* ---- The loop ---- */

static ft__score ft__fit_measure(ft__fit *f)
{
    ft__score score = {0, 0, 0};
    int at = 0, batch, i;
    for (i = 0; i < f->held_count; ++i) f->views[i] = 0;
    ft__bucket(&f->data->source, f->held, f->held_count, f->o.batch_size, 0, f->work);
    ft__fit_start(f, f->held, f->views, 0, f->held_count);
    while ((batch = ft__fit_batch(f, f->held, f->views, f->held_count, &at)) >= 0) {
        if (batch == 0) continue;
        f->m->batch = batch;
        ft__run_forward(f->m, f->plan, f->plan->first_trained, f->plan->step_count, batch,
                        FT__EVALUATING);
        ft__score_batch(f->m, f->plan, batch, ft__read_loss(f->m, f->plan), NULL, &score);
    }
    return score;
}

static float ft__fit_rate(const ft__fit *f)
{
    int step = f->at.epoch * f->steps + f->at.step, steps = f->o.epochs * f->steps;
    int warmup = (int)(f->o.warmup_epochs * (float)f->steps + 0.5f);
    return (float)((double)f->o.optimizer.learning_rate
                   * ft__schedule(f->o.schedule, step, steps, f->o.step_epochs * f->steps,
                                  (double)f->o.gamma, warmup));
}

static double ft__share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static void ft__fit_report(ft__fit *f, int batch, float rate, bool epoch_done)
{
    ft_progress p;
    const ft__score *score = epoch_done ? &f->at.last : &f->at.score;
    memset(&p, 0, sizeof p);
    if (!f->o.progress) return;
    p.epoch = epoch_done ? f->at.epoch - 1 : f->at.epoch;
    p.epochs = f->o.epochs;
    p.step = epoch_done ? f->steps : f->at.step;
    p.steps = f->steps;
    p.batch = batch;
    p.stage = f->o.stage;
    p.loss = score->total ? score->loss / (double)score->total : 0;
    p.accuracy = ft__share(score->correct, score->total);
    p.learning_rate = rate;
    p.epoch_done = epoch_done;
    p.held_back_accuracy = p.held_back_loss = -1;
    if (epoch_done && f->at.held.total > 0) {
        p.held_back_accuracy = ft__share(f->at.held.correct, f->at.held.total);
        p.held_back_loss = f->at.held.loss / (double)f->at.held.total;
    }
    if (!f->o.progress(f->o.progress_user, &p)) f->stopped = true;
}

/* One step of training on `batch` samples that lie in the plan. */
static void ft__fit_step(ft__fit *f, int batch)
{
    ft_model *m = f->m;
    float rate = ft__fit_rate(f), loss;
    m->batch = batch;
    m->step += 1;
    m->last_run = f->plan;
    ft__run_forward(m, f->plan, f->plan->first_trained, f->plan->step_count, batch, 0);
    loss = ft__read_loss(m, f->plan);
    if (!ft__ok(&m->context)) return;
    ft__score_batch(m, f->plan, batch, loss, NULL, &f->at.score);
    ft__run_backward(m, f->plan, batch);
    ft__optimizer_step(m, rate);
}

static bool ft__better(const ft__score *a, const ft__score *b)
{
    if (b->total == 0) return true;
    if (a->correct != b->correct) return a->correct > b->correct;
    return a->loss < b->loss;
}

/* What follows the last step of an epoch: measure, keep, decide whether to go on. */
static void ft__fit_epoch_done(ft__fit *f)
{
    ft__place_in_run *at = &f->at;
    at->last = at->score;
    memset(&at->score, 0, sizeof at->score);
    if (f->held_count > 0) at->held = ft__fit_measure(f);
    if (!ft__ok(&f->m->context)) return;
    if (f->held_count > 0 && ft__better(&at->held, &at->best)) {
        at->best = at->held;
        at->best_epoch = at->epoch;
        ft__keep_weights(f->m, false);
    } else if (!f->o.best) ft__keep_weights(f->m, false);
    at->epoch += 1;
    at->step = 0;
    if (at->epoch >= f->o.epochs) at->done = true;
    if (f->o.patience > 0 && f->held_count > 0 && at->epoch - 1 - at->best_epoch >= f->o.patience)
        at->done = true;
}

static void ft__fit_epoch(ft__fit *f)
{
    int at = f->at.step * f->o.batch_size, batch;
    ft__fit_order(f, f->at.epoch);
    ft__fit_start(f, f->order, f->views, at, f->train_count);
    while (f->at.step < f->steps && !f->stopped && ft__ok(&f->m->context)) {
        float rate = ft__fit_rate(f);
        batch = ft__fit_batch(f, f->order, f->views, f->train_count, &at);
        if (batch < 0) break;
        if (batch > 0) ft__fit_step(f, batch);
        if (!ft__ok(&f->m->context)) return;
        f->at.step += 1;
        ft__fit_report(f, batch, rate, false);
        if (f->o.checkpoint && f->o.checkpoint_steps > 0 && f->at.step < f->steps
            && f->at.step % f->o.checkpoint_steps == 0)
            ft__checkpoint_write(f);
    }
    if (f->stopped || !ft__ok(&f->m->context)) return;
    ft__fit_epoch_done(f);
    if (ft__ok(&f->m->context)) ft__fit_report(f, 0, 0, true);
    /* From the cache an epoch takes less time than a checkpoint: the last one's is enough. */
    if (f->o.checkpoint && ft__ok(&f->m->context) && (f->at.done || !f->cache.on))
        ft__checkpoint_write(f);
}

/* What a model file says of how it was trained: no time, path or number of threads. */
static void ft__fit_describe(ft__fit *f)
{
    static const char *const optimizers[] = {"adamw", "adam", "sgd"};
    static const char *const schedules[] = {"constant", "step", "cosine", "one_cycle"};
    const ft_optimizer_options *p = &f->o.optimizer;
    ft__context *c = &f->m->context;
    ft__text text;
    memset(&text, 0, sizeof text);
    text.context = c;
    if (!ft__ok(c)) return;
    ft__text_add(&text, "{\"stage\":");
    ft__json_add_text(&text, f->o.stage);
    ft__text_add(&text, ",\"samples\":%d,\"epochs\":%d,\"batch_size\":%d,\"optimizer\":\"%s\","
                 "\"schedule\":\"%s\",\"seed\":%llu", f->train_count, f->at.epoch,
                 f->o.batch_size, optimizers[p->optimizer], schedules[f->o.schedule],
                 (unsigned long long)c->desc.seed);
    ft__text_add(&text, ",\"learning_rate\":");
    ft__json_add_float(&text, p->learning_rate);
    ft__text_add(&text, ",\"weight_decay\":");
    ft__json_add_float(&text, p->weight_decay);
    ft__text_add(&text, ",\"augmented\":%s}", f->o.augment ? "true" : "false");
    ft__release(c, f->m->training);
    f->m->training = text.letters;
}

static void ft__fit_finish(ft__fit *f)
{
    ft__context *c = &f->m->context;
    ft_fit_result *r = &f->result;
    const ft__score *held = f->o.best ? &f->at.best : &f->at.held;
    if (f->o.best && f->at.done && f->at.best.total > 0) ft__keep_weights(f->m, true);
    r->epochs = f->at.epoch;
    r->best_epoch = f->at.best.total > 0 ? f->at.best_epoch : -1;
    r->loss = f->at.last.total ? f->at.last.loss / (double)f->at.last.total : 0;
    r->accuracy = ft__share(f->at.last.correct, f->at.last.total);
    r->held_back_loss = held->total ? held->loss / (double)held->total : -1;
    r->held_back_accuracy = held->total ? ft__share(held->correct, held->total) : -1;
    r->held_back_correct = (int)held->correct;
    r->held_back_total = (int)held->total;
    r->after = ft__digest(f->m);
    if (r->after.frozen != r->before.frozen)
        ft__fail(c, FT_INVALID, "frozen weights were changed during training: this is a bug of the"
                 " library");
    r->stopped = f->stopped;
    if (f->stopped && f->o.checkpoint) ft__checkpoint_write(f);
    else ft__fit_describe(f);
    /* The error may be numbers that ran away, or a device's: prediction goes on with the last good
       epoch. */
    if (c->status == FT_NOT_FINITE || ft__device_is_lost(c)) ft__keep_weights(f->m, true);
}

/* Everything that the loop needs, in the order in which it can fail. */
static ft_status ft__fit_prepare(ft__fit *f)
{
    ft_model *m = f->m;
    ft__context *c = &m->context;
    if (ft__ready(m, true) != FT_OK || ft__check_classes(m, f->data) != FT_OK) return c->status;
    if ((unsigned)f->o.schedule > FT_ONE_CYCLE || !(f->o.hold_back >= 0 && f->o.hold_back < 1))
        return ft__fail(c, FT_INVALID, "ft_fit: schedule %d, hold_back %g: a schedule is"
                        " FT_CONSTANT to FT_ONE_CYCLE, a share in [0, 1)", (int)f->o.schedule,
                        (double)f->o.hold_back);
    if (f->o.best && f->o.hold_back == 0)
        return ft__fail(c, FT_INVALID, "ft_fit: the best epoch is chosen on held-back samples: set"
                        " hold_back");
    if (f->data->source.streams > 0 && f->o.hold_back > 0)
        return ft__fail(c, FT_INVALID, "ft_fit: of streams nothing can be held back: evaluate on"
                        " another text");
    if (ft__fit_samples(f) != FT_OK) return c->status;
    ft__set_longest(m, f->data);
    f->plan = ft__begin(m, f->o.batch_size, true);
    if (!f->plan) return c->status;
    if (f->plan->first_trained == f->plan->step_count)
        return ft__fail(c, FT_INVALID, "nothing to train: all parameters are frozen");
    m->last_run = f->plan;
    f->result.before = ft__digest(m);
    f->at.best_epoch = -1;
    ft__set_optimizer(m, f->o.optimizer);
    ft__optimizer_prepare(m);
    ft__keep_weights(m, false);
    f->settings = ft__fit_settings(f);
    if (f->o.checkpoint && f->resume) ft__checkpoint_read(f);
    if (f->at.done || !ft__ok(c)) return c->status;
    if (f->cache.on) return c->status; /* lent, and full */
    ft__cache_plan(f);
    ft__cache_fill(f);
    return f->cache.on || f->loader ? c->status : ft__fit_loader(f);
}

/* `lent` is a cache that outlives the run, for the next one with the same data and the same layers
   frozen; NULL: the run has its own. */
static ft_fit_result ft__fit_run(ft_model *m, ft_data *data, ft_fit_options options,
                                 const char *note, bool resume, ft__cache *lent)
{
    ft__context *c = &m->context;
    ft__fit f;
    memset(&f, 0, sizeof f);
    f.m = m;
    f.data = data;
    f.note = note;
    f.resume = resume;
    if (lent) f.cache = *lent;
    f.o = ft__fit_defaults(options);
    if (data && data->source.streams > 0) f.o.batch_size = data->source.streams;
    if (ft__fit_prepare(&f) == FT_OK) {
        while (!f.at.done && !f.stopped && ft__ok(c)) ft__fit_epoch(&f);
        ft__fit_finish(&f);
    }
    ft__loader_destroy(f.loader);
    if (lent) *lent = f.cache;
    else ft__cache_release(c, &f.cache);
    ft__release(c, f.work);
    ft__release(c, f.views);
    ft__release(c, f.order);
    ft__release(c, f.held);
    ft__release(c, f.train);
    return f.result;
}

/* =============================================================================================
   [SECTION] 14.5 The default recipe
   A new head on frozen features is fast, hard to overfit, and often all that is needed. Whether it
   is enough is measured on a held-back fifth of the training data ("trial"); then the head is
   trained on all of it ("head"), and, where the trial left too many errors, all layers after it
   ("all"): first the head, so that its random start does not tear the features apart (Kumar et
   al. 2022). Nothing here ever sees the data that the result is scored on.
   ============================================================================================= */
enum { FT__TRIAL, FT__HEAD, FT__ALL, FT__STAGES };
static const char *const ft__stage_names[] = {"trial", "head", "all"};

static const double ft__enough = 0.9; /* right in the trial: the head alone will do */

typedef struct ft__recipe {
    ft_model *m;
    ft_data *data;
    ft_finetune_options o;
    ft_finetune_result result;
    int start;              /* the stage to begin with */
    ft__cache features;     /* of the frozen network: for the trial, and for the head after it */
} ft__recipe;

static bool ft__same_classes(const ft_model *m, const ft_data *data)
{
    int count = ft_data_classes(data), i;
    if (m->class_count != count || ft_class_count(m) != count) return false;
    for (i = 0; i < count; ++i)
        if (strcmp(m->class_names[i], ft_data_class_name(data, i)) != 0) return false;
    return true;
}

/* A model that was trained for these classes before keeps its head. */
static ft_status ft__recipe_head(ft__recipe *r)
{
    ft_model *m = r->m;
    const char **names;
    int count = ft_data_classes(r->data), i;
    if (ft__same_classes(m, r->data)) return m->context.status;
    if (ft__replace_head(m, count) != FT_OK) return m->context.status;
    names = (const char **)ft__allocate(&m->context, (size_t)count, sizeof *names);
    if (!names) return m->context.status;
    for (i = 0; i < count; ++i) names[i] = ft_data_class_name(r->data, i);
    ft_set_class_names(m, count, names);
    ft__release(&m->context, (void *)(uintptr_t)names);
    return m->context.status;
}

/* Freezes all but the head. */
static void ft__freeze_to_head(ft_model *m)
{
    ft__node *head = ft__head(m);
    int i;
    ft__set_frozen(m, "*", true);
    for (i = 1; head && i < head->input_count; ++i)
        m->nodes[head->inputs[i] - 1].frozen = false;
}

static void ft__redraw_head(ft_model *m)
{
    ft__node *head = ft__head(m);
    int i;
    ft__host_takes_weights(&m->context, true);
    for (i = 1; head && i < head->input_count; ++i)
        ft__initialise_node(m, &m->nodes[head->inputs[i] - 1]);
    m->weights_version += 1;
}

/* Pictures of most things may be moved a little; whether they may be mirrored (a photo: yes, a
   letter or a traffic sign: no) only the user knows. */
static void ft__recipe_augmentation(ft_data *data, ft_augmentation wanted)
{
    const ft_augmentation *has = data->folder ? &data->folder->augmentation : NULL;
    if (!has || has->shift > 0 || has->scale > 0 || has->flip) return;
    if (wanted.shift == 0) wanted.shift = 0.1f;
    if (wanted.shift < 0) wanted.shift = 0;
    ft__data_augment(data, wanted);
}

static ft_fit_options ft__recipe_options(const ft__recipe *r, int stage)
{
    ft_fit_options o;
    int samples = ft_data_count(r->data);
    memset(&o, 0, sizeof o);
    o.stage = ft__stage_names[stage];
    o.checkpoint = r->o.checkpoint;
    o.checkpoint_steps = r->o.checkpoint_steps;
    o.progress = r->o.progress;
    o.progress_user = r->o.progress_user;
    o.optimizer.weight_decay = 0.01f;
    if (stage != FT__ALL) {
        o.epochs = 30;
        o.batch_size = 32;
        o.optimizer.learning_rate = 2e-3f;
        o.hold_back = stage == FT__TRIAL ? 0.2f : 0.0f;
        return o;
    }
    /* Small sets need more rounds to take the same number of steps. */
    o.epochs = samples < 300 ? 60 : samples < 1000 ? 40 : samples < 5000 ? 30 : 15;
    o.batch_size = samples < 300 ? 16 : 32;
    o.optimizer.learning_rate = 2e-3f;
    o.schedule = FT_ONE_CYCLE;
    o.augment = true;
    if (r->o.epochs > 0) o.epochs = r->o.epochs;
    if (r->o.batch_size > 0) o.batch_size = r->o.batch_size;
    if (r->o.learning_rate > 0) o.optimizer.learning_rate = r->o.learning_rate;
    return o;
}

/* Only the stage that a checkpoint names goes on from it; those after it begin. */
static bool ft__recipe_stage(ft__recipe *r, int stage)
{
    ft_model *m = r->m;
    if (stage == FT__ALL) ft__set_frozen(m, "*", false);
    else ft__freeze_to_head(m);
    r->result.fit = ft__fit_run(m, r->data, ft__recipe_options(r, stage), r->result.choice,
                                stage == r->start, stage == FT__ALL ? NULL : &r->features);
    return ft__ok(&m->context) && !r->result.fit.stopped;
}

static void ft__recipe_choose(ft__recipe *r, bool *deeper)
{
    const ft_fit_result *trial = &r->result.fit;
    double right = trial->held_back_accuracy;
    *deeper = right < ft__enough;
    snprintf(r->result.choice, sizeof r->result.choice,
             "%s: a new head on frozen features got %.1f %% of %d held-back images right%s",
             *deeper ? "all layers" : "head only", 100 * right, trial->held_back_total,
             *deeper ? ", so the layers below are trained too" : "");
}

/* With a freeze given there is nothing to choose. */
static void ft__recipe_frozen(ft__recipe *r)
{
    int count;
    ft__set_frozen(r->m, "*", false);
    count = ft__set_frozen(r->m, r->o.freeze, true);
    if (count == 0 && *r->o.freeze)
        ft__fail(&r->m->context, FT_INVALID, "freeze %s: no parameter has such a name",
                 r->o.freeze);
    snprintf(r->result.choice, sizeof r->result.choice, "as asked: %.100s frozen (%d tensors)",
             *r->o.freeze ? r->o.freeze : "nothing", count);
    if (!ft__ok(&r->m->context)) return;
    r->result.fit = ft__fit_run(r->m, r->data, ft__recipe_options(r, FT__ALL), r->result.choice,
                                true, NULL);
}

/* Where a checkpoint left off: the stage to start with. Its note is the choice. */
static int ft__recipe_resume(ft__recipe *r)
{
    char stage[32];
    int i;
    if (!r->o.checkpoint || !ft__checkpoint_peek(r->m, r->o.checkpoint, stage, sizeof stage,
                                                 r->result.choice, sizeof r->result.choice))
        return FT__TRIAL;
    for (i = FT__TRIAL; i < FT__STAGES; ++i)
        if (strcmp(stage, ft__stage_names[i]) == 0) return i;
    return FT__TRIAL;
}

/* The stages in their order, from the one that a checkpoint names. */
static void ft__recipe_stages(ft__recipe *r)
{
    bool deeper = false;
    r->start = ft__recipe_resume(r);
    if (r->start == FT__TRIAL) {
        if (!ft__recipe_stage(r, FT__TRIAL)) return;
        ft__recipe_choose(r, &deeper);
        ft__redraw_head(r->m);
        ft__log(&r->m->context, "%s", r->result.choice);
    } else deeper = strncmp(r->result.choice, "all", 3) == 0;
    if (r->start <= FT__HEAD && !ft__recipe_stage(r, FT__HEAD)) return;
    ft__cache_release(&r->m->context, &r->features);
    if (deeper) ft__recipe_stage(r, FT__ALL);
}

static ft_finetune_result ft__finetune(ft_model *m, ft_data *data, ft_finetune_options options)
{
    ft__recipe r;
    memset(&r, 0, sizeof r);
    r.m = m;
    r.data = data;
    r.o = options;
    if (!ft__ok(&m->context)) return r.result;
    if (ft_data_classes(data) < 2) {
        ft__fail(&m->context, FT_INVALID, "the data has %d classes: at least 2 are needed",
                 ft_data_classes(data));
        return r.result;
    }
    if (ft__recipe_head(&r) != FT_OK) return r.result;
    ft__recipe_augmentation(data, options.augmentation);
    if (options.freeze) ft__recipe_frozen(&r);
    else ft__recipe_stages(&r);
    ft__cache_release(&m->context, &r.features);
    return r.result;
}

/* =============================================================================================
   [SECTION] 14.6 Evaluate and predict
   ============================================================================================= */

/* Tells the caller what the network made of each sample of a batch that was just run. */
static void ft__tell_samples(ft_model *m, const ft__plan *plan, const ft__batch *batch,
                             const ft_evaluate_options *o)
{
    const ft__node *output = ft__get_node(m, m->output), *loss = ft__get_node(m, m->loss);
    const ft__node *labels = loss->input_count > 1 ? &m->nodes[loss->inputs[1] - 1] : NULL;
    const float *logits = m->output.id ? plan->values[m->output.id - 1] : NULL;
    int classes, i, k;
    if (!o->sample || !logits || output->shape.rank != 2 || !labels || labels->type != FT_I32)
        return;
    classes = output->shape.size[1];
    for (i = 0; i < batch->count; ++i, logits += classes) {
        ft_sample_result result;
        double sum = 0;
        result.index = batch->index[i];
        result.label = ((const int32_t *)(const void *)labels->value)[i];
        result.guess = ft__largest(logits, classes);
        for (k = 0; k < classes; ++k) sum += (double)ft__exp(logits[k] - logits[result.guess]);
        result.probability = (float)(1 / sum);
        o->sample(o->sample_user, &result);
    }
}

/* Runs over the samples in this order; how many could be read. */
static int ft__evaluate_samples(ft_model *m, ft__plan *plan, ft__loader *loader, int *samples,
                                const ft_evaluate_options *o, ft__score *score)
{
    int count = ft_data_count(loader->data), read = 0;
    const ft__batch *batch;
    ft__loader_start(loader, samples, NULL, count);
    while (ft__ok(&m->context) && (batch = ft__loader_next(loader)) != NULL) {
        if (batch->count == 0) continue;
        read += batch->count;
        ft__feed_batch(m, loader, batch);
        m->last_run = plan;
        ft__run_forward(m, plan, 0, plan->step_count, batch->count, 0);
        ft__score_batch(m, plan, batch->count, ft__read_loss(m, plan), o->confusion, score);
        ft__tell_samples(m, plan, batch, o);
    }
    return read;
}

static ft_evaluation ft__evaluate(ft_model *m, ft_data *data, ft_evaluate_options options)
{
    ft__context *c = &m->context;
    int size = options.batch_size > 0 ? options.batch_size : 32, count, i, read = 0;
    ft_evaluation e;
    ft__score score = {0, 0, 0};
    ft__loader *loader = NULL;
    ft__plan *plan;
    int *samples;
    memset(&e, 0, sizeof e);
    if (!data || ft__ready(m, true) != FT_OK || ft__check_classes(m, data) != FT_OK) return e;
    count = ft_data_count(data);
    if (data->source.streams > 0) size = data->source.streams;
    if (size > count) size = count;
    ft__set_longest(m, data);
    if (options.confusion)
        memset(options.confusion, 0, (size_t)ft_class_count(m) * (size_t)ft_class_count(m)
               * sizeof *options.confusion);
    plan = ft__begin(m, size, false);
    ft__data_decode(data);
    samples = (int *)ft__allocate(c, 3 * (size_t)count, sizeof *samples);
    if (plan && samples) loader = ft__loader_create(m, data, size);
    for (i = 0; samples && i < count; ++i) samples[i] = i;
    if (loader) ft__bucket(&data->source, samples, count, size, 0, samples + count);
    if (loader) read = ft__evaluate_samples(m, plan, loader, samples, &options, &score);
    ft__loader_destroy(loader);
    ft__release(c, samples);
    e.correct = (int)score.correct;
    e.total = (int)score.total;
    e.skipped = ft_data_skipped(data) + count - read;
    e.accuracy = ft__share(score.correct, score.total);
    e.loss = score.total ? score.loss / (double)score.total : 0;
    ft__wilson(e.correct, e.total, &e.low, &e.high);
    return e;
}

/* Probabilities of one row of logits, and the best `count` of them, best first; of equals the
   first. The output may be probabilities already (a softmax): they are taken as they are. */
static int ft__best_classes(ft_model *m, const float *logits, ft_prediction *best, int count)
{
    int classes = ft_class_count(m), i, j, found = 0;
    bool probabilities = m->nodes[m->output.id - 1].op == FT__OP_softmax;
    float largest = classes > 0 ? logits[ft__largest(logits, classes)] : 0;
    double sum = 0;
    for (i = 0; i < classes; ++i) sum += (double)ft__exp(logits[i] - largest);
    for (i = 0; i < classes; ++i) {
        ft_prediction p;
        p.class_index = i;
        p.probability = probabilities ? logits[i]
                                      : (float)((double)ft__exp(logits[i] - largest) / sum);
        for (j = found; j > 0 && best[j - 1].probability < p.probability; --j)
            if (j < count) best[j] = best[j - 1];
        if (j < count) best[j] = p;
        if (found < count) found += 1;
    }
    return found;
}

/* Runs on one picture, and releases it; its logits stay in the plan. */
static int ft__predict_picture(ft_model *m, ft__plan *plan, float *picture, ft_prediction *best,
                               int count)
{
    if (ft__ok(&m->context))
        ft__fill_input(m, &m->nodes[ft__main_input(m).id - 1], picture, 1);
    ft__release(&m->context, picture);
    if (!ft__ok(&m->context)) return 0;
    m->last_run = plan;
    ft__run_forward(m, plan, 0, plan->step_count, 1, FT__ONLY_OUTPUT);
    ft__to_host(&m->context, plan->values[m->output.id - 1],
                ft__node_count_at(&m->nodes[m->output.id - 1], ft__extent_of(m, 1))
                * sizeof(float));
    return ft__best_classes(m, plan->values[m->output.id - 1], best, count);
}

/* The plan, and memory for one picture as the model wants it, [C, H, W]; NULL with an error. */
static ft__plan *ft__begin_picture(ft_model *m, float **picture)
{
    ft__plan *plan = ft__begin(m, 1, false);
    ft_node node = ft__main_input(m);
    const ft_preprocessing *p = &m->preprocessing;
    if (!plan) return NULL;
    if (!node.id || !m->output.id || p->width < 1
        || ft__node_count_at(&m->nodes[node.id - 1], ft__one)
           != (size_t)p->width * (size_t)p->height * (size_t)p->channels) {
        ft__fail(&m->context, FT_INVALID, "the model's input is no picture, or ft_set_preprocessing"
                 " was not told its size");
        return NULL;
    }
    *picture = (float *)ft__allocate(&m->context,
                                     ft__node_count_at(&m->nodes[node.id - 1], ft__one),
                                     sizeof **picture);
    return *picture ? plan : NULL;
}

/* =============================================================================================
   [SECTION] 15 Public functions
   ============================================================================================= */

/* ---- A model ---- */

static ft_desc ft__desc_defaults(ft_desc desc)
{
    if (!desc.allocator.allocate) {
        desc.allocator.allocate = ft__default_allocate;
        desc.allocator.release = ft__default_release;
    }
    if (!desc.files.open) desc.files = ft__default_files();
    return desc;
}

ft_model *ft_create(ft_desc desc)
{
    ft__context start;
    ft_model *m;
    memset(&start, 0, sizeof start);
    start.desc = ft__desc_defaults(desc);
    m = (ft_model *)ft__allocate(&start, 1, sizeof *m);
    if (!m) return NULL;
    m->context = start;
    m->length = 1;
    start.threads = desc.threads > 0 ? desc.threads : ft__processors();
    m->context.threads = start.threads > 64 ? 64 : start.threads;
    if (desc.communication.size > 1)
        ft__fail(&m->context, FT_UNSUPPORTED, "communication.size is %d: this version trains on"
                 " one process", desc.communication.size);
    ft__simd_choose(&m->context);
    ft__pool_create(&m->context);
    ft__device_open(&m->context);
    m->architecture = ft__copy_text(&m->context, "");
    if (desc.cache) m->context.desc.cache = m->cache = ft__copy_text(&m->context, desc.cache);
    return m;
}

static void ft__release_class_names(ft_model *m)
{
    int i;
    for (i = 0; m->class_names && i < m->class_count; ++i)
        ft__release(&m->context, m->class_names[i]);
    ft__release(&m->context, m->class_names);
    m->class_names = NULL;
    m->class_count = 0;
}

/* Everything but the context, in the reverse of the order in which it is made. */
static void ft__clear_graph(ft_model *m)
{
    ft__context *c = &m->context;
    int i;
    ft__plan_free(c, m->plans[0]);
    ft__plan_free(c, m->plans[1]);
    m->plans[0] = m->plans[1] = NULL;
    if (m->optimizer) ft__release(c, m->optimizer->sums);
    if (m->optimizer) ft__release(c, m->optimizer->parts);
    ft__release(c, m->optimizer);
    m->optimizer = NULL;
    ft__release(c, m->training);
    m->training = NULL;
    ft__release(c, m->tokenizer_text);
    m->tokenizer_text = NULL;
    m->tokenizer = NULL;
    ft__release_class_names(m);
    for (i = m->node_count - 1; i >= 0; --i) ft__release_node(c, &m->nodes[i]);
    ft__release(c, m->order);
    ft__release(c, m->nodes);
    m->order = NULL;
    m->nodes = NULL;
    m->node_count = m->node_capacity = 0;
    m->output.id = m->loss.id = 0;
}

void ft_destroy(ft_model *m)
{
    ft__context end;
    if (!m) return;
    while (m->data) ft_data_free(m->data);
    while (m->tokenizers) ft_tokenizer_free(m->tokenizers);
    ft__clear_graph(m);
    ft__release(&m->context, m->cache);
    ft__release(&m->context, m->architecture);
#ifdef FINETUNE_OPENCL
    ft__device_close(&m->context);
#endif
    ft__pool_destroy(&m->context);
    end = m->context; /* the block that holds the model is released from outside of it */
    ft__release(&end, m);
}

ft_status ft_error(const ft_model *m) { return m ? m->context.status : FT_MEMORY; }

const char *ft_error_text(const ft_model *m)
{
    return m ? m->context.text : "no memory for a model";
}

/* After a failure of the device the processor goes on, with the numbers that it has: what lay on
   the device may be half of a step's. */
static void ft__give_up_device(ft_model *m)
{
#ifdef FINETUNE_OPENCL
    ft__context *c = &m->context;
    int i;
    if (!ft__device_is_lost(c)) return;
    ft__log(c, "%s is given up: the processor goes on", c->device->name);
    ft__device_close(c);
    m->version += 1;
    m->weights_version += 1;
    for (i = 0; i < m->node_count; ++i)
        if (m->nodes[i].gradient)
            memset(m->nodes[i].gradient, 0,
                   ft__node_count_at(&m->nodes[i], ft__one) * sizeof(float));
#else
    (void)m;
#endif
}

void ft_clear_error(ft_model *m)
{
    if (!m) return;
    m->context.status = FT_OK;
    m->context.text[0] = 0;
    ft__give_up_device(m);
}

const char *ft_status_name(ft_status status)
{
    return (unsigned)status < FT_STATUS_COUNT ? ft__status_names[status] : "unknown";
}

int ft_devices(ft_model *m, ft_device_info *devices, int most)
{
#ifdef FINETUNE_OPENCL
    char why[300];
    int count;
    if (!m || !ft__ok(&m->context)) return 0;
    count = ft__cl_describe(m->context.desc.opencl_library, devices, most, why, sizeof why);
    if (count == 0) ft__log(&m->context, "%s", why);
    return count;
#else
    (void)devices;
    (void)most;
    if (m) ft__log(&m->context, "this build is without OpenCL (FINETUNE_OPENCL)");
    return 0;
#endif
}

/* ---- A network from a file, or by name ---- */

/* The tokeniser that the file carries, if it does. */
static void ft__load_tokenizer(ft_model *m, const ft_file *file, const char *path)
{
    const char *text = ft_file_metadata(file, ft__tokenizer_key);
    ft_tokenizer_options options;
    memset(&options, 0, sizeof options);
    options.memory = text;
    options.bytes = text ? strlen(text) : 0;
    if (text) ft_set_tokenizer(m, ft_tokenizer_load(m, path, options));
}

/* Builds what the file describes or what its weights are recognised as, then loads them. */
static ft_status ft__load_opened(ft_model *m, ft_file *file, const char *path,
                                 ft_load_options options)
{
    ft__context *c = &m->context;
    ft_network_options network = options.network;
    const char *name = options.architecture;
    int classes = options.network.classes, i;
    m->values_follow = true;
    if (!name && ft_file_metadata(file, ft__graph_key)) ft__load_graph(m, file, path);
    else {
        ft__recognise(m, file, options.weights.rename, &name, &network);
        if (ft__ok(c)) ft_network(m, name, network);
    }
    m->values_follow = false;
    ft__load_tokenizer(m, file, path);
    if (ft__load_weights(m, file, path, options.weights) != FT_OK) return c->status;
    for (i = 0; i < m->node_count; ++i) /* what the file did not have, where that is allowed */
        if (ft__is_weight(&m->nodes[i]) && !m->nodes[i].loaded)
            ft__initialise_node(m, &m->nodes[i]);
    if (classes > 0 && classes != ft_class_count(m)) ft__replace_head(m, classes);
    return c->status;
}

ft_status ft_load(ft_model *m, const char *path, ft_load_options options)
{
    ft__context *c = &m->context;
    ft_file *file;
    if (!ft__ok(c)) return c->status;
    if (m->node_count > 0)
        return ft__fail(c, FT_INVALID, "ft_load: the model has a network already; ft_load_weights"
                        " loads into it");
    if (!path) path = "(memory)";
    file = ft_file_open(m, path, options.weights);
    if (!file) return c->status;
    ft__load_opened(m, file, path, options);
    ft_file_close(file);
    if (!ft__ok(c)) ft__clear_graph(m); /* half a network is none */
    return c->status;
}

ft_status ft_load_weights(ft_model *m, const char *path, ft_weights_options options)
{
    ft_file *file;
    if (!ft__ok(&m->context)) return m->context.status;
    if (!path) path = "(memory)";
    file = ft_file_open(m, path, options);
    if (!file) return m->context.status;
    ft__load_weights(m, file, path, options);
    ft_file_close(file);
    return m->context.status;
}

ft_status ft_save(ft_model *m, const char *path, ft_save_options options)
{
    ft__context *c = &m->context;
    if (!ft__ok(c)) return c->status;
    if (options.type != FT_F32 && options.type != FT_F16 && options.type != FT_BF16)
        return ft__fail(c, FT_INVALID, "%s: weights are saved as FT_F32, FT_F16 or FT_BF16", path);
    return ft__write_model(m, path, options.type, NULL, false);
}

/* ---- Building ---- */

ft_node ft_input(ft_model *m, const char *name, ft_input_options options)
{
    ft_node node = ft__add_node(m, FT__OP_input, name, NULL, 0, NULL);
    ft__node *made = ft__get_node(m, node);
    int d;
    if (!made) return node;
    made->type = options.type;
    made->shape.rank = 1;
    made->shape.size[0] = FT_BATCH;
    for (d = 0; d < FINETUNE_MAX_RANK - 1 && options.size[d] != 0; ++d) {
        if (options.size[d] < 0 && options.size[d] != FT_LENGTH)
            ft__fail(&m->context, FT_INVALID, "%s: size %d is negative", name, options.size[d]);
        made->shape.size[made->shape.rank++] = options.size[d];
    }
    if (options.type != FT_F32 && options.type != FT_I32)
        ft__fail(&m->context, FT_INVALID, "%s: an input is FT_F32 or FT_I32", name);
    return node;
}

/* One rule for every parameter: its memory, initial values and fans. */
ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options)
{
    ft__context *c = &m->context;
    ft_node node = ft__add_node(m, options.buffer ? FT__OP_buffer : FT__OP_parameter, name, NULL, 0,
                                NULL);
    ft__node *made = ft__get_node(m, node);
    size_t count;
    if (!made) return node;
    while (made->shape.rank < FINETUNE_MAX_RANK && options.size[made->shape.rank] > 0) {
        made->shape.size[made->shape.rank] = options.size[made->shape.rank];
        made->shape.rank += 1;
    }
    count = ft__shape_count(&made->shape);
    if (count == 0 || made->shape.rank == 0)
        ft__fail(c, FT_INVALID, "%s: a parameter needs sizes above 0 that fit into memory", name);
    made->value = (float *)ft__allocate(c, count, sizeof(float));
    made->initialiser = options.initialiser;
    made->fan_in = options.fan_in;
    made->fan_out = options.fan_out;
    if (ft__ok(c) && !m->values_follow) ft__initialise_node(m, made);
    if (!ft__ok(c)) node.id = 0;
    return node;
}

static ft_node ft__layer_parameter(ft_model *m, const char *layer, const char *part,
                                   ft_parameter_options options)
{
    char name[512];
    ft_node none = {0};
    if (!ft__ok(&m->context)) return none;
    if (!layer || !*layer) {
        ft__fail(&m->context, FT_INVALID, "a layer with parameters needs a name");
        return none;
    }
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return ft_parameter(m, name, options);
}

/* The size of a node along a dimension; 0 with an error when it has no such dimension. */
static int ft__size_of(ft_model *m, const char *name, ft_node x, int dimension)
{
    const ft__node *node = ft__get_node(m, x);
    if (node && dimension < 0) dimension += node->shape.rank;
    if (node && dimension >= 0 && dimension < node->shape.rank && node->shape.size[dimension] > 0)
        return node->shape.size[dimension];
    ft__fail(&m->context, FT_SHAPE, "%s: its input has no dimension %d of known size", name,
             dimension);
    return 0;
}

/* weight and bias of a layer, given or made, behind x in the list of inputs */
static int ft__weight_inputs(ft_model *m, const char *name, ft_node *inputs, ft_node weight,
                             ft_node bias, bool no_bias, ft_parameter_options options)
{
    ft_parameter_options bias_options;
    memset(&bias_options, 0, sizeof bias_options);
    bias_options.size[0] = options.size[0];
    bias_options.fan_in = options.fan_in;
    bias_options.fan_out = options.fan_out;
    inputs[1] = weight.id ? weight : ft__layer_parameter(m, name, "weight", options);
    if (no_bias) return 2;
    inputs[2] = bias.id ? bias : ft__layer_parameter(m, name, "bias", bias_options);
    return 3;
}

static int ft__pair(const int pair[2], int i, int otherwise)
{
    int value = i == 1 && pair[1] == 0 ? pair[0] : pair[i];
    return value == 0 ? otherwise : value;
}

ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv2d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    int count, groups = options.groups ? options.groups : 1, channels;
    if (!ft__ok(&m->context)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (groups < 1 || channels % groups != 0)
        ft__fail(&m->context, FT_SHAPE, "%s: %d channels cannot be parted into %d groups", name,
                 channels, groups);
    if (!ft__ok(&m->context)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = ft__pair(options.kernel, 0, 0);
    p.size[3] = ft__pair(options.kernel, 1, 0);
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2] * p.size[3];
    p.fan_out = out_channels * p.size[2] * p.size[3];
    if (out_channels < 1 || p.size[2] < 1 || p.size[3] < 1) {
        ft__fail(&m->context, FT_INVALID, "%s: needs out_channels and a kernel above 0", name);
        return none;
    }
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    o.conv2d = options;
    o.conv2d.weight = o.conv2d.bias = none; /* they are inputs now */
    return ft__add_node(m, FT__OP_conv2d, name, inputs, count, &o);
}

ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                  ft_conv1d_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    int count, groups = options.groups ? options.groups : 1, channels, i;
    if (!ft__ok(&m->context)) return none;
    channels = ft__size_of(m, name, x, 1);
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (groups < 1 || channels % groups != 0 || out_channels < 1 || options.kernel < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d channels into %d groups, %d out_channels, kernel"
                 " %d: the groups must divide, the others be above 0", name, channels, groups,
                 out_channels, options.kernel);
    if (!ft__ok(&m->context)) return none;
    p.size[0] = out_channels;
    p.size[1] = channels / groups;
    p.size[2] = options.kernel;
    p.initialiser = options.initialiser;
    p.fan_in = p.size[1] * p.size[2];
    p.fan_out = out_channels * p.size[2];
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    o.conv2d.kernel[0] = o.conv2d.stride[0] = o.conv2d.dilation[0] = 1;
    o.conv2d.kernel[1] = options.kernel;
    o.conv2d.stride[1] = options.stride;
    o.conv2d.dilation[1] = options.dilation;
    if (options.causal)
        o.conv2d.padding[1] = ft__pair(o.conv2d.dilation, 1, 1) * (options.kernel - 1);
    for (i = 0; i < 2 && !options.causal; ++i)
        o.conv2d.padding[1 + 2 * i] = options.padding[1] ? options.padding[i] : options.padding[0];
    o.conv2d.groups = options.groups;
    o.conv2d.same = options.same;
    return ft__add_node(m, FT__OP_conv1d, name, inputs, count, &o);
}

ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                  ft_linear_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    int count;
    if (!ft__ok(&m->context)) return none;
    memset(&p, 0, sizeof p);
    p.size[0] = out_features;
    p.size[1] = p.fan_in = ft__size_of(m, name, x, -1);
    p.fan_out = out_features;
    p.initialiser = options.initialiser;
    if (out_features < 1) ft__fail(&m->context, FT_INVALID, "%s: needs outputs", name);
    if (!ft__ok(&m->context)) return none;
    inputs[0] = x;
    count = ft__weight_inputs(m, name, inputs, options.weight, options.bias, options.no_bias, p);
    return ft__add_node(m, FT__OP_linear, name, inputs, count, NULL);
}

ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x, ft_batch_norm_options options)
{
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    ft_node inputs[5], none = {0};
    ft_parameter_options p;
    ft__options o;
    int i;
    if (!ft__ok(&m->context)) return none;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    o.batch_norm = options;
    p.size[0] = ft__size_of(m, name, x, 1);
    inputs[0] = x;
    for (i = 0; i < 4; ++i) {
        p.initialiser = i == 0 || i == 3 ? FT_INIT_ONES : FT_INIT_ZEROS;
        p.buffer = i >= 2;
        inputs[i + 1] = ft__layer_parameter(m, name, parts[i], p);
    }
    return ft__add_node(m, FT__OP_batch_norm, name, inputs, 5, &o);
}

ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x, ft_layer_norm_options options)
{
    ft_node inputs[3], none = {0};
    ft_parameter_options p;
    ft__options o;
    if (!ft__ok(&m->context)) return none;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    o.layer_norm = options;
    p.size[0] = ft__size_of(m, name, x, -1);
    if (!ft__ok(&m->context)) return none;
    p.initialiser = FT_INIT_ONES;
    inputs[0] = x;
    inputs[1] = ft__layer_parameter(m, name, "weight", p);
    p.initialiser = FT_INIT_ZEROS;
    inputs[2] = ft__layer_parameter(m, name, "bias", p);
    return ft__add_node(m, FT__OP_layer_norm, name, inputs, 3, &o);
}

static ft_node ft__add_simple(ft_model *m, int op, const char *name, ft_node x)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    return ft__add_node(m, op, name, &x, 1, &o);
}

static ft_node ft__add_pair(ft_model *m, int op, const char *name, ft_node a, ft_node b)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, op, name, inputs, 2, &o);
}

ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pool2d = options;
    return ft__add_node(m, FT__OP_max_pool2d, name, &x, 1, &o);
}

ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x, ft_pool2d_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pool2d = options;
    return ft__add_node(m, FT__OP_avg_pool2d, name, &x, 1, &o);
}

ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_global_avg_pool, name, x);
}

ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_global_max_pool, name, x);
}

ft_node ft_flatten(ft_model *m, const char *name, ft_node x)
{
    return ft__add_simple(m, FT__OP_flatten, name, x);
}

ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank, const int *size)
{
    ft__options o;
    ft_node none = {0};
    int d;
    memset(&o, 0, sizeof o);
    if (!ft__ok(&m->context)) return none;
    if (rank < 0 || rank >= FINETUNE_MAX_RANK) {
        ft__fail(&m->context, FT_INVALID, "%s: %d dimensions; up to %d are possible", name, rank,
                 FINETUNE_MAX_RANK - 1);
        return none;
    }
    o.reshape.rank = rank;
    for (d = 0; d < rank; ++d) o.reshape.size[d] = size[d];
    return ft__add_node(m, FT__OP_reshape, name, &x, 1, &o);
}

ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, FT__OP_add, name, a, b);
}

ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b)
{
    return ft__add_pair(m, FT__OP_mul, name, a, b);
}

ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x, int axis)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.concat.axis = axis;
    return ft__add_node(m, FT__OP_concat, name, x, count, &o);
}

ft_node ft_pad(ft_model *m, const char *name, ft_node x, ft_pad_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.pad = options;
    return ft__add_node(m, FT__OP_pad, name, &x, 1, &o);
}

ft_node ft_slice(ft_model *m, const char *name, ft_node x, ft_slice_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.slice = options;
    return ft__add_node(m, FT__OP_slice, name, &x, 1, &o);
}

ft_node ft_permute(ft_model *m, const char *name, ft_node x, int rank, const int *axes)
{
    const ft__node *from = ft__get_node(m, x);
    ft_node none = {0};
    ft__options o;
    if (!ft__ok(&m->context)) return none;
    memset(&o, 0, sizeof o);
    if (!axes || !from || rank != from->shape.rank) {
        ft__fail(&m->context, FT_INVALID, "%s: %d axes for a node of %d dimensions", name, rank,
                 from ? from->shape.rank : 0);
        return none;
    }
    memcpy(o.permute.axes, axes, (size_t)rank * sizeof *axes);
    return ft__add_node(m, FT__OP_permute, name, &x, 1, &o);
}

ft_node ft_gather(ft_model *m, const char *name, ft_node x, ft_node index, int axis)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.concat.axis = axis;
    inputs[0] = x;
    inputs[1] = index;
    return ft__add_node(m, FT__OP_gather, name, inputs, 2, &o);
}

ft_node ft_matmul(ft_model *m, const char *name, ft_node a, ft_node b, ft_matmul_options options)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.matmul = options;
    inputs[0] = a;
    inputs[1] = b;
    return ft__add_node(m, FT__OP_matmul, name, inputs, 2, &o);
}

ft_node ft_dropout(ft_model *m, const char *name, ft_node x, ft_dropout_options options)
{
    ft__options o;
    memset(&o, 0, sizeof o);
    o.dropout = options;
    return ft__add_node(m, FT__OP_dropout, name, &x, 1, &o);
}

/* ---- Sequences ---- */

ft_node ft_embedding(ft_model *m, const char *name, ft_node ids, int words, int features,
                     ft_embedding_options options)
{
    ft_node inputs[2], none = {0};
    ft_parameter_options p;
    ft__node *weight;
    ft__options o;
    int i;
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    if (!ft__ok(&m->context)) return none;
    if (words < 1 || features < 1)
        ft__fail(&m->context, FT_INVALID, "%s: %d words of %d features", name, words, features);
    p.size[0] = words;
    p.size[1] = features;
    p.initialiser = FT_INIT_KAIMING_NORMAL;
    p.fan_out = 2; /* N(0, 2 / 2) */
    o.embedding = options;
    o.embedding.weight = none;
    inputs[0] = ids;
    inputs[1] = options.weight.id ? options.weight : ft__layer_parameter(m, name, "weight", p);
    weight = ft__get_node(m, inputs[1]);
    if (ft__ok(&m->context) && options.padded && !options.weight.id && !m->values_follow
        && options.padding_index >= 0 && options.padding_index < words)
        for (i = 0; i < features; ++i) weight->value[options.padding_index * features + i] = 0;
    return ft__add_node(m, FT__OP_embedding, name, inputs, 2, &o);
}

ft_node ft_step_pool(ft_model *m, const char *name, ft_node x, ft_node lengths,
                     ft_step_pool_options options)
{
    ft_node inputs[2];
    ft__options o;
    memset(&o, 0, sizeof o);
    o.step_pool = options;
    inputs[0] = x;
    inputs[1] = lengths;
    return ft__add_node(m, FT__OP_step_pool, name, inputs, lengths.id ? 2 : 1, &o);
}

/* A state of the model: a row of zeros for each sample, at first. */
static ft_node ft__carried_state(ft_model *m, const char *layer, const char *part, int number,
                                 int features)
{
    char name[512];
    ft_node node;
    ft__node *made;
    snprintf(name, sizeof name, "%s.%s_l%d", layer, part, number);
    node = ft__add_node(m, FT__OP_state, name, NULL, 0, NULL);
    made = ft__get_node(m, node);
    if (!made) return node;
    made->shape.rank = 2;
    made->shape.size[0] = FT_BATCH;
    made->shape.size[1] = features;
    return node;
}

/* Dropout of a layer's input or weight, as a node of its own. */
static ft_node ft__recurrent_dropout(ft_model *m, const char *layer, const char *part,
                                     const char *suffix, ft_node x, float probability, bool locked)
{
    char name[512];
    ft_dropout_options drop;
    if (!(probability > 0)) return x;
    memset(&drop, 0, sizeof drop);
    drop.probability = probability;
    drop.locked = locked;
    snprintf(name, sizeof name, "%s.%s%s", layer, part, suffix);
    return ft_dropout(m, name, x, drop);
}

/* Weights and biases of one layer, behind inputs[0]; returns how many inputs there are. */
static int ft__recurrent_parameters(ft_model *m, const char *name, int layer, int gates, int in,
                                    int hidden, const ft_recurrent_options *options,
                                    ft_node *inputs)
{
    static const char *const parts[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    int count = 1, d, which;
    char part[64], suffix[32];
    ft_parameter_options p;
    for (d = 0; d < (options->bidirectional ? 2 : 1); ++d)
        for (which = 0; which < (options->no_bias ? 2 : 4); ++which) {
            memset(&p, 0, sizeof p);
            p.size[0] = gates * hidden;
            if (which < 2) p.size[1] = which ? hidden : in;
            p.fan_in = hidden; /* PyTorch's bound is 1 / sqrt(hidden) for all of them */
            snprintf(suffix, sizeof suffix, "_l%d%s", layer, d ? "_reverse" : "");
            snprintf(part, sizeof part, "%s%s", parts[which], suffix);
            inputs[count] = ft__layer_parameter(m, name, part, p);
            if (which == 1)
                inputs[count] = ft__recurrent_dropout(m, name, "weight_drop", suffix,
                                                      inputs[count], options->weight_drop, false);
            count += 1;
        }
    return count;
}

/* The first state of a layer: carried by the model, or its part of the caller's node. */
static ft_node ft__first_state(ft_model *m, const char *name, int layer, int features, bool cell,
                               const ft_recurrent_options *options)
{
    ft_node given = cell ? options->cell : options->hidden;
    ft_slice_options part;
    char slice[512];
    if (options->carry)
        return ft__carried_state(m, name, cell ? "cell" : "hidden", layer, features);
    if (!options->layers || options->layers == 1) return given;
    memset(&part, 0, sizeof part);
    part.start[1] = layer * features;
    part.stop[1] = (layer + 1) * features;
    snprintf(slice, sizeof slice, "%s.first_%s_l%d", name, cell ? "cell" : "hidden", layer);
    return ft_slice(m, slice, given, part);
}

static ft_node ft__recurrent_layer(ft_model *m, int op, const char *name, ft_node x, int layer,
                                   int hidden, const ft_recurrent_options *options)
{
    int gates = op == FT__OP_lstm ? 4 : op == FT__OP_gru ? 3 : 1, count;
    int layers = options->layers ? options->layers : 1;
    int features = hidden * (options->bidirectional ? 2 : 1);
    ft_node inputs[12], none = {0};
    ft__options o;
    char below[512], suffix[32];
    memset(&o, 0, sizeof o);
    snprintf(suffix, sizeof suffix, "_l%d", layer);
    snprintf(below, sizeof below, "%s%s", name, suffix);
    inputs[0] = layer == 0 ? x : ft__recurrent_dropout(m, name, "dropout", suffix, x,
                                                       options->dropout, options->locked);
    count = ft__recurrent_parameters(m, name, layer, gates, ft__size_of(m, name, x, -1), hidden,
                                     options, inputs);
    o.recurrent.hidden = hidden;
    o.recurrent.bidirectional = options->bidirectional;
    o.recurrent.no_bias = options->no_bias;
    o.recurrent.relu = options->relu && op == FT__OP_rnn;
    o.recurrent.carry = options->carry;
    o.recurrent.lengths = options->lengths.id != 0;
    o.recurrent.initial = options->carry || options->hidden.id != 0;
    if (o.recurrent.lengths) inputs[count++] = options->lengths;
    if (o.recurrent.initial)
        inputs[count++] = ft__first_state(m, name, layer, features, false, options);
    if (o.recurrent.initial && op == FT__OP_lstm)
        inputs[count++] = ft__first_state(m, name, layer, features, true, options);
    if (!ft__ok(&m->context)) return none;
    return ft__add_node(m, op, layer == layers - 1 ? name : below, inputs, count, &o);
}

static ft_node ft__recurrent_stack(ft_model *m, int op, const char *name, ft_node x, int hidden,
                                   ft_recurrent_options options)
{
    int layers = options.layers ? options.layers : 1, layer;
    ft_node none = {0};
    if (!ft__ok(&m->context)) return none;
    if (hidden < 1 || hidden > 1 << 24 || layers < 1 || layers > 1000)
        ft__fail(&m->context, FT_INVALID, "%s: %d layers of %d hidden numbers", name, layers,
                 hidden);
    if (options.carry && (options.bidirectional || options.hidden.id || options.cell.id))
        ft__fail(&m->context, FT_INVALID, "%s: a carried state goes forward only, and is the first"
                 " state itself", name);
    if (op == FT__OP_lstm ? (options.hidden.id != 0) != (options.cell.id != 0) : options.cell.id)
        ft__fail(&m->context, FT_INVALID, "%s: an LSTM has both a first hidden state and a first"
                 " cell, others have no cell", name);
    for (layer = 0; ft__ok(&m->context) && layer < layers; ++layer)
        x = ft__recurrent_layer(m, op, name, x, layer, hidden, &options);
    return ft__ok(&m->context) ? x : none;
}

ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_lstm, name, x, hidden, options);
}

ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_gru, name, x, hidden, options);
}

ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden, ft_recurrent_options options)
{
    return ft__recurrent_stack(m, FT__OP_rnn, name, x, hidden, options);
}

static bool ft__is_activation(int op) { return op >= FT__OP_sigmoid && op <= FT__OP_log_softmax; }

/* The operator of an activation's name; FT__OP_none with an error for any other. */
static int ft__activation_named(ft_model *m, const char *kind)
{
    int op;
    for (op = FT__OP_sigmoid; op <= FT__OP_log_softmax; ++op)
        if (strcmp(ft__rows[op].name, kind) == 0) return op;
    ft__fail(&m->context, FT_INVALID, "%s: no activation of this name; there are sigmoid, tanh,"
             " relu, relu6, leaky_relu, elu, softplus, softsign, gelu, silu, softmax, log_softmax",
             kind);
    return FT__OP_none;
}

ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                      ft_activation_options options)
{
    int op = ft__activation_named(m, kind);
    ft__options o;
    memset(&o, 0, sizeof o);
    o.activation = options;
    return ft__add_node(m, op, name, &x, 1, &o);
}

ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node labels,
                         ft_loss_options options)
{
    ft__options o;
    ft_node inputs[2];
    memset(&o, 0, sizeof o);
    o.loss = options;
    inputs[0] = logits;
    inputs[1] = labels;
    return ft__add_node(m, FT__OP_cross_entropy, name, inputs, 2, &o);
}

ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, FT__OP_soft_cross_entropy, name, logits, targets);
}

ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits, ft_node targets)
{
    return ft__add_pair(m, FT__OP_binary_cross_entropy, name, logits, targets);
}

ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target)
{
    return ft__add_pair(m, FT__OP_mse, name, x, target);
}

/* ---- Which nodes matter ---- */

static bool ft__check_node(ft_model *m, ft_node node, const char *what)
{
    if (!ft__ok(&m->context)) return false;
    if (ft__get_node(m, node)) return true;
    ft__fail(&m->context, FT_INVALID, "%s: node %d is not a node of this model", what, node.id);
    return false;
}

void ft_set_output(ft_model *m, ft_node logits)
{
    if (!ft__check_node(m, logits, "ft_set_output")) return;
    m->output = logits;
    m->version += 1;
}

void ft_set_loss(ft_model *m, ft_node loss)
{
    const ft__extent two = {2, 2};
    if (!ft__check_node(m, loss, "ft_set_loss")) return;
    if (ft__node_count_at(&m->nodes[loss.id - 1], two) != 1) {
        ft__fail(&m->context, FT_SHAPE, "%s: a loss is one number", m->nodes[loss.id - 1].name);
        return;
    }
    m->loss = loss;
    m->version += 1;
}

ft_node ft_output(const ft_model *m) { return m->output; }
ft_node ft_loss(const ft_model *m) { return m->loss; }

void ft_set_preprocessing(ft_model *m, ft_preprocessing preprocessing)
{
    int i;
    if (!ft__ok(&m->context)) return;
    for (i = 0; i < preprocessing.channels && i < 4; ++i)
        if (!(preprocessing.std[i] > 0)) {
            ft__fail(&m->context, FT_INVALID, "preprocessing: std of channel %d is not above 0",
                     i);
            return;
        }
    m->preprocessing = preprocessing;
}

ft_preprocessing ft_get_preprocessing(const ft_model *m) { return m->preprocessing; }

void ft_set_class_names(ft_model *m, int count, const char *const *names)
{
    ft__context *c = &m->context;
    int i;
    if (!ft__ok(c)) return;
    ft__release_class_names(m);
    m->class_names = (char **)ft__allocate(c, (size_t)count + 1, sizeof *m->class_names);
    for (i = 0; ft__ok(c) && i < count; ++i) {
        m->class_names[i] = ft__copy_text(c, names[i]);
        if (m->class_names[i]) m->class_count = i + 1;
    }
}

const char *ft_class_name(const ft_model *m, int index)
{
    return index >= 0 && index < m->class_count ? m->class_names[index] : NULL;
}

int ft_class_count(const ft_model *m)
{
    const ft__node *output = ft__get_node(m, m->output);
    return output && output->shape.rank == 2 ? output->shape.size[1] : 0;
}

/* ---- Looking at it ---- */

ft_node ft_find(const ft_model *m, const char *name) { return ft__find_node(m, name); }
int ft_node_count(const ft_model *m) { return m->node_count; }

const char *ft_node_name(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found ? found->name : "";
}

const char *ft_node_operator(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found ? ft__rows[found->op].name : "";
}

ft_shape ft_node_shape(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    ft_shape none;
    memset(&none, 0, sizeof none);
    return found ? found->shape : none;
}

int ft_node_inputs(const ft_model *m, ft_node node, ft_node *inputs, int most)
{
    const ft__node *found = ft__get_node(m, node);
    int i;
    if (!found) return 0;
    for (i = 0; i < found->input_count && i < most; ++i) inputs[i].id = found->inputs[i];
    return found->input_count;
}

bool ft_node_frozen(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    return found && ft__node_is_frozen(m, found);
}

uint64_t ft_node_multiply_adds(const ft_model *m, ft_node node)
{
    const ft__node *found = ft__get_node(m, node);
    ft_model *unchanged = (ft_model *)(uintptr_t)m;
    return found ? ft__costs_of(unchanged, found, ft__one, false).multiply_adds : 0;
}

ft_time ft_node_time(const ft_model *m, ft_node node)
{
    ft_time none = {0, 0};
    const ft__node *found = ft__get_node(m, node);
    return found ? found->time : none;
}

const char *ft_architecture(const ft_model *m) { return m->architecture ? m->architecture : ""; }

/* The memory that holds a node's value now, and how many numbers it has; NULL with an error. */
static float *ft__value_of(ft_model *m, ft_node node, size_t *count)
{
    const ft__node *found;
    ft__plan *plan = m->last_run;
    if (!ft__check_node(m, node, "ft_get")) return NULL;
    found = &m->nodes[node.id - 1];
    *count = ft__node_count_at(found, ft__extent_of(m, m->batch));
    if (ft__is_weight(found) || (ft__has_rows(found) && found->value)) return found->value;
    if (plan && (node.id == m->output.id || node.id == m->loss.id))
        return plan->values[node.id - 1];
    ft__fail(&m->context, FT_INVALID, "%s: only parameters, inputs, the output and the loss keep"
             " their values after a run", found->name);
    return NULL;
}

static ft_status ft__check_count(ft_model *m, ft_node node, size_t count, size_t want)
{
    if (count == want) return m->context.status;
    return ft__fail(&m->context, FT_SHAPE, "%s: has %zu numbers, not %zu",
                    ft_node_name(m, node), want, count);
}

ft_status ft_get(ft_model *m, ft_node node, float *to, size_t count)
{
    size_t want = 0;
    const float *value = ft__value_of(m, node, &want);
    if (!value || ft__check_count(m, node, count, want) != FT_OK) return m->context.status;
    ft__read_value(m, &m->nodes[node.id - 1], value, m->batch, to);
    return FT_OK;
}

ft_status ft_set(ft_model *m, ft_node node, const float *from, size_t count)
{
    size_t want = 0;
    float *value = ft__value_of(m, node, &want);
    if (!value || ft__check_count(m, node, count, want) != FT_OK) return m->context.status;
    if (ft__has_rows(&m->nodes[node.id - 1]))
        ft__fill_input(m, &m->nodes[node.id - 1], from, m->batch);
    else {
        ft__host_takes_weights(&m->context, true);
        memcpy(value, from, count * sizeof *from);
    }
    m->weights_version += 1;
    return FT_OK;
}

ft_status ft_get_gradient(ft_model *m, ft_node node, float *to, size_t count)
{
    const ft__node *found;
    if (!ft__check_node(m, node, "ft_get_gradient")) return m->context.status;
    found = &m->nodes[node.id - 1];
    if (!found->gradient)
        return ft__fail(&m->context, FT_INVALID, "%s: has no gradient: it is frozen, no parameter,"
                        " or no training step was run", found->name);
    if (ft__check_count(m, node, count, ft__node_count_at(found, ft__one)) != FT_OK)
        return m->context.status;
    ft__to_host(&m->context, found->gradient, count * sizeof *to);
    memcpy(to, found->gradient, count * sizeof *to);
    return FT_OK;
}

ft_plan_bytes ft_plan(ft_model *m, int batch_size, bool training)
{
    ft_plan_bytes bytes;
    ft__plan *plan;
    int i;
    memset(&bytes, 0, sizeof bytes);
    if (ft__ready(m, training) != FT_OK) return bytes;
    plan = ft__plan_make(m, ft__extent_of(m, batch_size), training, true);
    if (!plan) return bytes;
    for (i = 0; i < m->node_count; ++i) {
        const ft__node *node = &m->nodes[i];
        size_t each = ft__node_count_at(node, plan->most) * sizeof(float);
        if (node->op == FT__OP_input) bytes.activations += each;
        if (!ft__is_weight(node)) continue;
        bytes.parameters += each;
        if (!training || node->op != FT__OP_parameter || node->frozen) continue;
        bytes.gradients += each;
        bytes.optimizer += each * (m->optimizer && m->optimizer->options.optimizer == FT_SGD
                                   ? m->optimizer->options.momentum != 0 : 2);
    }
    bytes.activations += plan->memory_bytes;
    bytes.workspace = plan->workspace_bytes + plan->weight_bytes;
    bytes.total = bytes.parameters + bytes.gradients + bytes.optimizer + bytes.activations
        + bytes.workspace;
    ft__plan_free(&m->context, plan);
    return bytes;
}

/* ---- Adjusting it ---- */

int ft_freeze(ft_model *m, const char *glob) { return ft__set_frozen(m, glob, true); }
int ft_unfreeze(ft_model *m, const char *glob) { return ft__set_frozen(m, glob, false); }
ft_digest ft_frozen_digest(ft_model *m) { return ft__digest(m); }
ft_status ft_replace_head(ft_model *m, int classes) { return ft__replace_head(m, classes); }

int ft_swap_activations(ft_model *m, const char *glob, const char *kind,
                        ft_activation_options options)
{
    int op, i, count = 0;
    if (!ft__ok(&m->context)) return 0;
    op = ft__activation_named(m, kind);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_activation(node->op) || !ft__glob(glob, node->name)) continue;
        node->op = op;
        memset(&node->options, 0, sizeof node->options);
        node->options.activation = options;
        count += 1;
    }
    m->version += 1;
    ft__infer_all(m);
    return count;
}

/* Sets a factor or decay of every matching parameter. */
static int ft__set_rule(ft_model *m, const char *glob, const float *factor, const float *decay)
{
    int i, count = 0;
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (node->op != FT__OP_parameter || !ft__glob(glob, node->name)) continue;
        if (factor) node->learning_rate_factor = *factor;
        if (decay) node->weight_decay = *decay;
        count += 1;
    }
    return count;
}

int ft_scale_learning_rate(ft_model *m, const char *glob, float factor)
{
    return ft__set_rule(m, glob, &factor, NULL);
}

int ft_set_weight_decay(ft_model *m, const char *glob, float weight_decay)
{
    return ft__set_rule(m, glob, NULL, &weight_decay);
}

int ft_initialise(ft_model *m, const char *glob, ft_initialiser initialiser)
{
    int i, count = 0;
    ft__host_takes_weights(&m->context, true);
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (!ft__is_weight(node) || !ft__glob(glob, node->name)) continue;
        if (initialiser != FT_INIT_DEFAULT && node->op == FT__OP_parameter)
            node->initialiser = initialiser; /* a running variance starts at 1, whatever is asked */
        ft__initialise_node(m, node);
        count += 1;
    }
    m->weights_version += 1;
    return count;
}

/* ---- Training by hand ---- */

ft_status ft_set_optimizer(ft_model *m, ft_optimizer_options options)
{
    return ft__set_optimizer(m, options);
}

ft_status ft_feed(ft_model *m, ft_node input, const void *values, int batch)
{
    if (!ft__check_node(m, input, "ft_feed")) return m->context.status;
    if (m->nodes[input.id - 1].op != FT__OP_input)
        return ft__fail(&m->context, FT_INVALID, "%s: is no input", m->nodes[input.id - 1].name);
    if (batch < 1)
        return ft__fail(&m->context, FT_INVALID, "%s: a batch of %d", ft_node_name(m, input),
                        batch);
    if (ft__plan_leaves(m, ft__extent_of(m, batch), false) != FT_OK) return m->context.status;
    ft__fill_input(m, &m->nodes[input.id - 1], values, batch);
    m->batch = batch;
    return FT_OK;
}

ft_status ft_set_length(ft_model *m, int length)
{
    if (!ft__ok(&m->context)) return m->context.status;
    if (length < 1)
        return ft__fail(&m->context, FT_INVALID, "ft_set_length: %d steps", length);
    if (m->length != length) m->last_run = NULL; /* its values have another shape */
    m->length = length;
    return FT_OK;
}

int ft_length(const ft_model *m) { return m->length; }

int ft_reset_state(ft_model *m, const char *glob)
{
    int i, count = 0;
    for (i = 0; ft__ok(&m->context) && i < m->node_count; ++i) {
        ft__node *node = &m->nodes[i];
        if (node->op != FT__OP_state || !ft__glob(glob, node->name)) continue;
        count += 1;
        if (!node->value) continue;
        memset(node->value, 0, ft__node_count_at(node, node->capacity) * sizeof(float));
        ft__host_wrote(&m->context, node->value);
    }
    return count;
}

float ft_forward(ft_model *m, bool training)
{
    ft__plan *plan;
    if (!ft__ok(&m->context)) return 0;
    plan = ft__begin(m, m->batch, training);
    if (!plan) return 0;
    if (training) m->step += 1;
    m->last_run = plan;
    ft__run_forward(m, plan, 0, plan->step_count, m->batch, 0);
    return m->loss.id ? ft__read_loss(m, plan) : 0;
}

ft_status ft_backward(ft_model *m)
{
    ft__plan *plan = m->last_run;
    if (!ft__ok(&m->context)) return m->context.status;
    if (!plan || !plan->training)
        return ft__fail(&m->context, FT_INVALID, "ft_backward comes after ft_forward(m, true)");
    if (plan->first_trained == plan->step_count)
        return ft__fail(&m->context, FT_INVALID, "nothing to train: all parameters are frozen");
    ft__run_backward(m, plan, m->batch);
    return FT_OK;
}

ft_status ft_update(ft_model *m, float learning_rate)
{
    ft_optimizer_options defaults;
    memset(&defaults, 0, sizeof defaults);
    if (ft__ok(&m->context) && !m->optimizer) ft__set_optimizer(m, defaults);
    if (!ft__ok(&m->context)) return m->context.status;
    return ft__optimizer_step(m, learning_rate);
}

float ft_schedule_factor(ft_schedule schedule, int step, int steps, int step_size, float gamma,
                         int warmup)
{
    return (float)ft__schedule(schedule, step, steps, step_size, (double)gamma, warmup);
}

/* ---- Training ---- */

ft_fit_result ft_fit(ft_model *m, ft_data *data, ft_fit_options options)
{
    return ft__fit_run(m, data, options, "", true, NULL);
}

ft_finetune_result ft_finetune(ft_model *m, ft_data *data, ft_finetune_options options)
{
    return ft__finetune(m, data, options);
}

/* ---- Prediction ---- */

ft_status ft_run_lengths(ft_model *m, const void *values, const int *lengths, int batch,
                         float *logits)
{
    ft__plan *plan = ft__begin(m, batch, false);
    ft_node input = ft__main_input(m);
    ft__node *padded;
    int i;
    if (!plan) return m->context.status;
    if (!input.id || !m->output.id)
        return ft__fail(&m->context, FT_INVALID, "the model has no input or no output");
    ft__fill_input(m, &m->nodes[input.id - 1], values, batch);
    padded = ft__get_node(m, ft__find_node(m, "lengths"));
    for (i = 0; padded && padded->op == FT__OP_input && padded->type == FT_I32 && i < batch; ++i)
        ((int32_t *)(void *)padded->value)[i] = lengths ? lengths[i] : m->length;
    m->last_run = plan;
    ft__run_forward(m, plan, 0, plan->step_count, batch, FT__ONLY_OUTPUT);
    ft__read_value(m, &m->nodes[m->output.id - 1], plan->values[m->output.id - 1], batch, logits);
    return FT_OK;
}

ft_status ft_run(ft_model *m, const void *values, int batch, float *logits)
{
    return ft_run_lengths(m, values, NULL, batch, logits);
}

int ft_predict_memory(ft_model *m, const void *bytes, size_t count_of_bytes, ft_prediction *best,
                      int count)
{
    float *picture;
    ft__plan *plan = ft__begin_picture(m, &picture);
    if (!plan) return 0;
    ft__encoded_to_input(&m->context, &m->preprocessing, bytes, count_of_bytes, "the picture",
                         picture);
    return ft__predict_picture(m, plan, picture, best, count);
}

int ft_predict_file(ft_model *m, const char *path, ft_prediction *best, int count)
{
    float *picture;
    ft__plan *plan = ft__begin_picture(m, &picture);
    unsigned char *bytes;
    size_t size = 0;
    if (!plan) return 0;
    bytes = ft__read_file(&m->context, path, &size);
    if (bytes) ft__encoded_to_input(&m->context, &m->preprocessing, bytes, size, path, picture);
    ft__release(&m->context, bytes);
    return ft__predict_picture(m, plan, picture, best, count);
}

int ft_predict_pixels(ft_model *m, const uint8_t *pixels, int width, int height, int channels,
                      ft_prediction *best, int count)
{
    float *picture;
    ft__plan *plan = ft__begin_picture(m, &picture);
    if (!plan) return 0;
    ft__pixels_to_input(&m->context, &m->preprocessing, pixels, width, height, channels,
                        "the pixels", picture);
    return ft__predict_picture(m, plan, picture, best, count);
}

ft_evaluation ft_evaluate(ft_model *m, ft_data *data, ft_evaluate_options options)
{
    return ft__evaluate(m, data, options);
}

#ifdef __cplusplus
}
#endif
#endif /* FINETUNE_IMPLEMENTATION */
