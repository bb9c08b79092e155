#pragma once
#include "interface/requirements.h"

/* =============================================================================================
   [SECTION] interface/types: Types and options
   ============================================================================================= */
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

/* Element types. Nodes hold F32 (or I32 for labels and indices); files may hold any of them. OTHER:
   a tensor that is listed but cannot be read as numbers (quantized, sparse, complex, ...). */
#define FINETUNE_TYPE_LIST(X)                                                                    \
    X(F32, 4) X(I32, 4) X(F16, 2) X(BF16, 2) X(F64, 8) X(I64, 8) X(I16, 2) X(I8, 1) X(U8, 1)     \
    X(BOOL, 1) X(U16, 2) X(U32, 4) X(U64, 8) X(F8_E4M3, 1) X(F8_E5M2, 1) X(OTHER, 0)
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

typedef enum ft_path_kind { /* what a path names, links followed */
    FT_PATH_NONE,           /* nothing that is there */
    FT_PATH_FILE,           /* a regular file */
    FT_PATH_FOLDER,
    FT_PATH_OTHER           /* a pipe, a socket, a device */
} ft_path_kind;

/* File operations. Replace all of the first seven or none. Paths are UTF-8. Several threads may
   call them at once, each with a file of its own. */
typedef struct ft_files {
    void *user;
    /* NULL: it cannot be opened. `write`: a new file; NULL if there is anything at the path, a link
       too. Reading must not wait for a pipe's writer. */
    void *(*open)(void *user, const char *path, bool write);
    int64_t (*size)(void *user, void *file);                 /* negative: unknown */
    size_t (*read)(void *user, void *file, uint64_t offset, void *to, size_t bytes);
    size_t (*write)(void *user, void *file, const void *from, size_t bytes); /* appends */
    bool (*close)(void *user, void *file);   /* a written file reaches the disk before `true` */
    bool (*rename)(void *user, const char *from, const char *to); /* replaces `to` at once */
    bool (*remove)(void *user, const char *path);
    /* Optional, both or neither. map returns NULL if the file cannot be mapped. */
    const void *(*map)(void *user, void *file, size_t bytes);
    void (*unmap)(void *user, const void *memory, size_t bytes);
    /* Optional. Calls each() for every entry of a folder, in any order; false: not a folder. */
    bool (*list)(void *user, const char *path,
                 void (*each)(void *context, const char *name, bool is_folder), void *context);
    /* Optional, even where the others are replaced. Without it whatever rename() can replace is
       replaced, be it a regular file or not. */
    ft_path_kind (*kind)(void *user, const char *path);
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
    int threads;                  /* 0: one per processor; more than those run no faster */
    size_t memory_budget;         /* bytes that the model may hold in all, on its device too; 0: no
                                     limit */
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
    /* Of the products in convolutions and linear layers: NULL or "float32"; "bf16": factors rounded
       to bf16 and summed in float32, where the processor has AVX512_BF16 (else FT_UNSUPPORTED) or
       the device tensor cores (else a line in the log, and float32); "tf32": factors rounded to 11
       bits by such a device, float32 elsewhere; "bf16_emulated": bf16's bits without the
       processor's instruction, slowly. Weights, activations, losses, statistics and the optimiser
       are float32 in all of them. */
    const char *precision;
} ft_desc;

/* One OpenCL device of this machine. */
typedef struct ft_device_info {
    char device[32];              /* what ft_desc.device takes: "opencl:0:1" */
    char name[128], platform[128], driver[64]; /* as the driver tells; driver: its version */
    uint64_t memory;              /* bytes */
    int compute_units;
    bool is_processor;            /* the machine's own: "gpu" and "auto" pass it by */
} ft_device_info;

/* What was found out about an operator on ft_desc.device. */
typedef struct ft_device_check {
    const char *op;
    char shape[48];               /* of its first input; "": there is no kernel for it */
    const char *choice;           /* "processor", "kernel", "CLBlast", or which form of our matrix
                                     product: "plain", "tiled", "wide", "block",
                                     "Winograd", or "tensor" (ft_desc.precision) */
    float error;                  /* of value and gradients, relative to the largest */
    double device_seconds, host_seconds; /* forward and backward of a sample; 0: no ft_desc.clock */
} ft_device_check;

/* ---- Building a network ---- */

typedef enum ft_initialiser {
    FT_INIT_DEFAULT,          /* PyTorch's, or Keras' where ft_network_options says so */
    FT_INIT_KAIMING_UNIFORM,  /* U(-b, b), b = 1/sqrt(fan_in): what PyTorch's layers draw by
                                 kaiming_uniform_ with a = sqrt(5), weights and biases */
    FT_INIT_KAIMING_NORMAL,   /* torchvision's ResNets: variance 2/fan_out (He et al. 2015) */
    FT_INIT_XAVIER_UNIFORM,   /* Keras' layers: U(-b, b), b = sqrt(6/(fan_in + fan_out)) (Glorot and
                                 Bengio 2010) */
    FT_INIT_ZEROS,
    FT_INIT_ONES
} ft_initialiser;

/* Seconds in a node's operator since the model was created; 0 without ft_desc.clock. */
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
    float momentum;         /* default 0.1: running = 0.9 * running + 0.1 * batch; the variance that
                               is taken into running_var is the unbiased one, as PyTorch's */
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
    bool exclude_padding;   /* average only: divide by the pixels inside, as Keras does (and as with
                               `same`); otherwise padding counts as zeros, as in PyTorch */
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

typedef enum ft_step_pooling {
    FT_POOL_LAST, FT_POOL_MEAN, FT_POOL_MAX,
    FT_POOL_ALL             /* last, largest and mean side by side, as ULMFiT's head takes them */
} ft_step_pooling;
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
    bool final_states;      /* makes nodes of the last states, in the same order: "<name>.h_n" and,
                               of ft_lstm, "<name>.c_n", which ft_find gives */
} ft_recurrent_options;

typedef struct ft_loss_options {
    float label_smoothing;  /* s in [0, 1], default 0: the target is 1 - s for the label, plus
                               s / classes for every class (Szegedy et al. 2016) */
} ft_loss_options;

typedef struct ft_network_options {
    int classes;            /* default: what the network is usually published with */
    int image_size;         /* default: likewise (224, or 32 for the CIFAR networks) */
    int channels;           /* of the image; default 3 */
    float width;            /* mobilenet_v1: default 1 */
    bool adjusted;          /* keras_cnn: a dense layer of 256 instead of 1024 */
    bool keras_initialisers;
    /* Of networks over text: */
    int words;              /* in the vocabulary; default 10000, char_rnn: 65 */
    int embedding;          /* features of a word; default 128, lstm_lm: 256 */
    int hidden;             /* numbers of a layer's state; default 256, char_rnn: 128 */
    int layers;             /* default 1 of a classifier, 2 of a language model */
    bool bidirectional;     /* classifiers */
    ft_step_pooling pooling;/* classifiers: default the last step */
    bool tied;              /* lstm_lm: the decoder's weight is the embedding's; needs hidden =
                               embedding */
    float dropout;          /* locked, behind the embedding and each layer; default 0 */
} ft_network_options;

typedef struct ft_tokenizer ft_tokenizer; /* turns a text into numbers, and back */

typedef struct ft_language_model_to_classifier_options {
    int hidden;             /* a linear layer of so many numbers and a relu before the last one;
                               default: there is none */
    float dropout;          /* before each of the head's linear layers; default 0 */
    ft_tokenizer *new_words;/* a vocabulary of FT_WORDS of this model, of the texts to classify:
                               words in it that the model's lacks are put behind those of the
                               model's, which has a tokeniser of its own from then on; each begins
                               as the mean of the embedding's rows. Default: they stay unknown */
} ft_language_model_to_classifier_options;

/* How a picture becomes the network's input; stored in the model file. */
typedef struct ft_preprocessing {
    int width, height, channels; /* of the network's input */
    int resize;             /* the shorter side first becomes this (Pillow's antialiased bilinear),
                               then the centre is cut out; 0: both sides are resized to fit */
    float mean[4], std[4];  /* (pixel / 255 - mean) / std per channel: in units of 0..1, as
                               torchvision's Normalize. mean: default 0; std has no default: above
                               0, or ft_set_preprocessing refuses it */
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
    const char *state_dict; /* PyTorch's checkpoints: the key of the weights, "model_ema" or
                               "a.b" for one inside another; default: the usual names, and where
                               averaged weights lie beside, not those; the log says so */
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
    const char *type_name;  /* as the file calls it; tells what FT_OTHER is */
} ft_tensor_info;

/* ---- Text ---- */

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
    bool no_groups;         /* never group files by name. Default: files NNNNN_MMMMM.* are frames
                               MMMMM of tracks NNNNN, which are held back as a whole, if classes
                               have two tracks or more on average; the log says so */
    bool match_classes;     /* the folder's classes must be among the model's (for evaluation) */
    const ft_data *classes_of; /* likewise among those of this data, which the model is still to be
                               trained on: what does not fit is noticed before the training */
    bool group_by_name;     /* NUMBER_NUMBER.* are frames of tracks, however many digits and tracks
                               there are */
} ft_image_folder_options;

typedef struct ft_array_options {
    int classes;            /* labels are below it; 0: the largest label plus one */
    const char *input, *labels; /* names of the nodes; default "input" and "labels". Values are
                               taken as they are: without the model's preprocessing */
} ft_array_options;
/* Is the first line of a .tsv or .csv a header? */
typedef enum ft_table_header {
    FT_HEADER_AUTO,         /* yes, if it has a column of a known name; refused, if that is not
                               certain */
    FT_HEADER_YES, FT_HEADER_NO
} ft_table_header;

typedef struct ft_text_options { /* of labelled texts */
    /* Names in the header, in any case, or numbers from 1; several text columns with commas between
       them ("title,body") are joined by a space. Default: "text", "sentence", "review", ... and
       "label", "class", "category", ...; without a header the first of two columns is the text.
       The log says which columns were taken. */
    const char *text_column, *label_column;
    const char *format;     /* "tsv", "csv" or "jsonl"; default: how the path ends, else TSV */
    ft_tokenizer *tokenizer;/* default: the model's; where it has none, the words of these texts
                               become it */
    ft_vocabulary_options vocabulary; /* of those words */
    int longest;            /* tokens that are kept of a text, as by ft_set_max_length; default:
                               ft_max_length(m) */
    int per_class;          /* use only so many texts of each class, drawn by the seed; 0: all */
    bool match_classes;     /* the labels must be among the model's classes (for evaluation) */
    bool unlabelled;        /* there are no labels: all texts are of one class */
    const void *memory;     /* a table in memory instead of a path */
    size_t bytes;
    /* Of views other than 0, which ft_fit_options.augment trains on; both want FT_WORDS: */
    bool shuffle;           /* the words are in another order, drawn for each view */
    float subsample;        /* words that are more than this share of all words, say 1e-3, are left
                               out at random: of share f, sqrt(subsample / f) remain (Mikolov et al.
                               2013); one word always does. 0 (default): none is left out */
    const ft_data *classes_of; /* the labels must be among the classes of this data, which the
                               model is still to be trained on: as match_classes, but before */
    ft_table_header header; /* of a .tsv or .csv */
} ft_text_options;

typedef struct ft_stream_options { /* of a text for a language model */
    int streams;            /* rows of a batch: the text is cut into as many; default 32 */
    int steps;              /* of each in a batch: how far back gradients reach; default 64 */
    const char *text_column;/* of a table: its texts one after the other, as in ft_text_options;
                               default: a whole file, or with `table` the column that is found */
    const char *format;     /* as in ft_text_options */
    ft_tokenizer *tokenizer;/* as in ft_text_options */
    ft_tokenizer_kind vocabulary_kind; /* FT_CHARACTERS (default) or FT_WORDS, where one is built */
    ft_vocabulary_options vocabulary;
    const void *memory;     /* instead of a path */
    size_t bytes;
    bool table;             /* a table, though no text_column is set */
    ft_table_header header; /* of a .tsv or .csv */
} ft_stream_options;

/* ---- Training ---- */

typedef enum ft_optimizer { FT_ADAMW, FT_ADAM, FT_SGD } ft_optimizer;
typedef enum ft_schedule {
    FT_CONSTANT,
    FT_STEP,       /* times gamma after every step_epochs epochs */
    FT_COSINE,     /* to 0 at the end (Loshchilov and Hutter 2017, without restarts) */
    FT_ONE_CYCLE   /* up from 1/25 over the first 30 %, then down to 1/25/10^4, in cosine pieces:
                      Smith and Topin 2018 with the defaults of PyTorch's OneCycleLR */
} ft_schedule;

/* Adam: Kingma and Ba 2015; AdamW: Loshchilov and Hutter 2019; SGD with momentum: Sutskever et al.
   2013, in the form that PyTorch documents. */
typedef struct ft_optimizer_options {
    ft_optimizer optimizer; /* default AdamW */
    float learning_rate;    /* of ft_fit, before its schedule; default 1e-3 (SGD: 1e-2). In the loop
                               by hand ft_update is given the rate, and this one is not used */
    float momentum;         /* SGD: default 0 */
    bool nesterov;          /* SGD with momentum: looks ahead */
    float beta1, beta2;     /* default 0.9, 0.999 */
    float eps;              /* default 1e-8 */
    float weight_decay;     /* default 0; AdamW's is decoupled from the gradient */
    float clip_norm;        /* gradients whose norm, over all of them, is larger are scaled down to
                               it (Pascanu et al. 2013); 0: never */
} ft_optimizer_options;

typedef struct ft_progress {
    int epoch, epochs;      /* from 0; of how many */
    int step, steps;        /* in this epoch, from 1 */
    int batch;              /* samples in this step; 0, as learning_rate, where epoch_done */
    const char *stage;      /* "head", "all", ... */
    double loss, accuracy;  /* of the training samples of this epoch so far; accuracy -1: the loss
                               has no class labels, as that of a regression */
    float learning_rate;
    bool epoch_done;
    double held_back_accuracy, held_back_loss; /* at the end of an epoch; negative: not measured */
} ft_progress;

typedef struct ft_fit_options {
    int epochs;             /* default 10 */
    int batch_size;         /* default 32; at most as many as there are to train on. The last batch
                               of an epoch has what is left; one sample alone is left out, of which
                               batch norm could take no variance */
    ft_optimizer_options optimizer;
    ft_schedule schedule;
    int step_epochs;        /* FT_STEP: default 10 */
    float gamma;            /* FT_STEP: default 0.1 */
    float warmup_epochs;    /* linear, from 0; default none */
    float hold_back;        /* share of the data that is not trained on but measured after each
                               epoch, split by class and group; default 0 */
    bool best;              /* end with the weights of the best held-back epoch, not the last */
    int patience;           /* stop after so many epochs without a better held-back one; 0: never */
    bool no_cache;          /* compute the frozen prefix anew at each step */
    int views;              /* augmented views per sample for the cached prefix; default 8 */
    bool augment;           /* train on augmented views (the data says which) */
    size_t cache_bytes;     /* memory for the outputs of the frozen prefix; default 1 GiB. More is
                               read from ft_desc.cache, or without one computed in each epoch */
    const char *checkpoint; /* a file that a killed run continues from; NULL: none */
    int checkpoint_steps;   /* write it every so many steps, besides every epoch; 0: no */
    const char *stage;      /* a name for progress and checkpoint */
    /* Called after each step and each epoch; false stops the run. A GPU is by then at the next
       step, which is still made, counted and kept when the run is stopped. */
    bool (*progress)(void *user, const ft_progress *progress);
    void *progress_user;
} ft_fit_options;

typedef struct ft_digest { uint64_t frozen; int tensors; } ft_digest; /* of all frozen bytes */

typedef struct ft_fit_result {
    int epochs;             /* that ran */
    int best_epoch;         /* from 0; -1: no choice was made */
    double loss, accuracy;  /* of the training samples in the last epoch; accuracy -1: the loss has
                               no class labels (of ft_mse the loss itself is the metric) */
    double held_back_loss, held_back_accuracy; /* of the weights that were kept; negative: none */
    int held_back_correct, held_back_total;
    ft_digest before, after; /* equal, or the run would have failed */
    bool stopped;           /* by the progress function; the weights are as of that step, a GPU's
                               as of the next */
} ft_fit_result;

typedef struct ft_finetune_options {
    int epochs;             /* of each stage, the trial too; default: chosen */
    int batch_size;         /* default: 16 of fewer than 300 samples (texts: 1,000), else 32; of
                               a new head alone, and in the trial, 32 */
    float learning_rate;    /* of the trial and of the last stage; default: chosen per stage */
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
    int *confusion;         /* [true class][predicted], ft_class_count(m) squared numbers, though
                               the data may have fewer classes; or NULL */
    void (*sample)(void *user, const ft_sample_result *result); /* called for each; or NULL */
    void *sample_user;
    size_t confusion_count; /* how many numbers confusion has: any other than ft_class_count(m)
                               squared is FT_SHAPE */
} ft_evaluate_options;

typedef struct ft_evaluation {
    int correct, total, skipped;
    double accuracy, low, high; /* with its 95 % Wilson interval; all -1, and correct 0, where the
                               loss has no class labels */
    double loss;            /* of a language model: nats a token; perplexity is exp of it */
    bool regression;        /* the loss is ft_mse of the output and an input: */
    double mse, r2;         /* mean squared error, and the coefficient of determination, 1 - mse /
                               variance of the targets, the mean over the outputs (scikit-learn's
                               r2_score); of constant targets 1 where mse is 0, else 0 */
} ft_evaluation;

typedef struct ft_prediction { int class_index; float probability; } ft_prediction;

typedef struct ft_generate_options {
    const char *prompt;     /* the text to go on with; default: a new line, or the start */
    int length;             /* tokens at most; default 200 */
    float temperature;      /* logits are divided by it; default 1 */
    bool greedy;            /* always the most probable token */
    int top_k;              /* only the most probable so many; 0: all */
    float top_p;            /* only the most probable that make up this share; 0: all */
    uint64_t seed;
    bool (*piece)(void *user, const char *text, size_t bytes); /* each piece of text, in whole
                               characters, as it comes; false ends it */
    void *piece_user;
} ft_generate_options;

typedef struct ft_plan_bytes { /* what a run will take, told before it */
    size_t parameters, gradients, optimizer, activations, workspace, total;
    size_t other;                 /* in total: the graph, names, lists, and what else is there */
    size_t device;                /* in total: on ft_desc.device, and not there yet */
} ft_plan_bytes;
