#pragma once
#include "interface/requirements.h"

/* =============================================================================================
   [SECTION] interface/types: Types and options
   ============================================================================================= */
/* Status codes and their meaning. ft_error_text() says where it happened and with which values. */
#define FINETUNE_STATUS_LIST(X)                                                                  \
    X(OK, "no error")                                                                            \
    X(INVALID, "a wrong argument, or a call out of order")                                       \
    X(SHAPE, "tensors whose shapes do not match")                                                \
    X(MEMORY, "out of memory, or over the memory budget")                                        \
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

/* As sizes in a shape: the batch's number of samples, and the run's number of steps. */
enum { FT_BATCH = -1, FT_LENGTH = -2 };

typedef struct ft_shape { int rank; int size[FINETUNE_MAX_RANK]; } ft_shape;
typedef struct ft_node { int id; } ft_node; /* {0} means "failed"; every function accepts it */
typedef struct ft_model ft_model;
typedef struct ft_data ft_data;
typedef struct ft_file ft_file; /* an opened file of tensors */

/* ---- What the host program may want to own; all zero is a good default ----
   Options are structs, passed by value. Set the fields that you need and leave the others zero.
   In C: (ft_desc){.seed = 1}; in C++20: ft_desc{.seed = 1}; before: ft_desc d{}; d.seed = 1; */

/* Set both functions or neither. allocate() returns NULL if there is no memory; `alignment` is a
   power of two. The thread that uses the model calls them, never the library's own threads. */
typedef struct ft_allocator {
    void *user;
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes);
} ft_allocator;

typedef enum ft_path_kind { /* what is at a path; links are followed */
    FT_PATH_NONE,           /* nothing */
    FT_PATH_FILE,           /* a regular file */
    FT_PATH_FOLDER,
    FT_PATH_OTHER           /* a pipe, a socket, a device */
} ft_path_kind;

/* File operations. Replace all of the first seven or none. Paths are UTF-8. Several threads may
   call them at once, each with its own file. */
typedef struct ft_files {
    void *user;
    /* Returns NULL if the file cannot be opened. `write` creates a new file: NULL if anything is at
       the path, even a link. Opening a pipe to read must not wait for its writer. */
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
    /* Optional, even if the others are replaced. Without it a save replaces whatever rename() can
       replace, regular file or not. */
    ft_path_kind (*kind)(void *user, const char *path);
} ft_files;

/* A dataset of an HDF5 file, or an attribute that is a text or a list of texts. */
typedef struct ft_hdf5_item {
    const char *path;       /* "layers/dense/vars/0"; of an attribute that of its group or dataset,
                               "" for the root */
    const char *attribute;  /* its name; NULL: a dataset of numbers */
    ft_type type;           /* of a dataset's numbers, little-endian; FT_OTHER: cannot be read */
    int rank;               /* of an attribute 0 for one text, 1 for a list of them */
    int64_t size[FINETUNE_MAX_RANK];
    size_t bytes;           /* that `read` gives: the numbers row by row; or the texts, each with a
                               0 at its end */
} ft_hdf5_item;

/* HDF5 files, which Keras writes, by a library of the host's: finetune.h has none of its own.
   examples/tool/hdf5.h fills this with libhdf5, opened at run time. To read, all of open, item,
   read and close; to write as well, also write and bytes. */
typedef struct ft_hdf5 {
    void *user;
    /* Opens a file that lies in memory, which stays valid until close; or, with NULL and 0, makes a
       new one in memory. NULL: these bytes are no HDF5 file, or there is no memory. */
    void *(*open)(void *user, const void *bytes, size_t count);
    /* Describes item `index`, from 0; texts stay valid until close. false: there are no more. */
    bool (*item)(void *user, void *file, int index, ft_hdf5_item *item);
    bool (*read)(void *user, void *file, int index, void *to);
    void (*close)(void *user, void *file);
    /* Adds an item to a new file, and the groups that its path names; `from` is as `read` gives it.
       The same items in the same order must give the same bytes. */
    bool (*write)(void *user, void *file, const ft_hdf5_item *item, const void *from);
    /* Copies a new file's bytes if they fit into `room`; returns how many they are; 0: failed. */
    size_t (*bytes)(void *user, void *file, void *to, size_t room);
} ft_hdf5;

typedef struct ft_desc {
    uint64_t seed;                /* of every random choice: weights, order, augmentation */
    int threads;                  /* 0: one per processor; more are not faster; at most 64 */
    size_t memory_budget;         /* most bytes that the model may hold, its device's included; 0:
                                     no limit */
    ft_allocator allocator;       /* default: malloc */
    void *arena;                  /* or: one fixed block for all allocations ... */
    size_t arena_bytes;           /* ... and its size */
    ft_files files;               /* default: the operating system's */
    void (*log)(void *user, const char *line); /* gets the library's messages; default: dropped */
    void *log_user;
    /* The app's own threads: calls body(context, i) for i in 0..count-1, in any order, and returns
       when all are done. Default: the library's thread pool. */
    void (*parallel_for)(void *user, void (*body)(void *context, int index), void *context,
                         int count);
    void *parallel_user;
    /* Returns seconds since any fixed moment. If set, it is called before and after every operator,
       and ft_node_time returns the time that each operator took. */
    double (*clock)(void *user);
    void *clock_user;
    const char *device;           /* NULL or "cpu"; with FINETUNE_OPENCL also "gpu" (the first one),
                                     "opencl:P:D" (device D of platform P), or "auto" (a GPU if one
                                     works, else the CPU) */
    const char *simd;             /* NULL: the best that the CPU has; or one of "none", "sse2",
                                     "avx2", "avx512", "neon" */
    const char *opencl_library;   /* the OpenCL loader's path; default: the system's */
    const char *clblast_library;  /* likewise */
    const char *kernels_path;     /* compile this kernels.cl instead of the one built in */
    /* An existing folder that keeps slow results for the next run: the outputs of frozen layers,
       and which pictures can be read. An entry is used only if it was made from the same weights,
       preprocessing and file bytes. Kernels that a driver compiled are kept there too, so nobody
       whom you do not trust may write to it. NULL: no cache. */
    const char *cache;
    /* Precision of the products in convolutions and linear layers: NULL or "float32"; "bf16":
       factors rounded to bf16, sums in float32. It needs AVX512_BF16 on the CPU (else
       FT_UNSUPPORTED) or a device with tensor cores (else float32, and a line in the log).
       "tf32": such a device rounds factors to 11 bits; float32 elsewhere. "bf16_emulated": bf16's
       bits without the CPU's instruction, slowly. Weights, activations, losses, statistics and the
       optimiser are always float32. */
    const char *precision;
    ft_hdf5 hdf5;                 /* for Keras' files; default: they can be neither read nor
                                     written */
} ft_desc;

/* One OpenCL device of this machine. */
typedef struct ft_device_info {
    char device[32];              /* a value for ft_desc.device: "opencl:0:1" */
    char name[128], platform[128], driver[64]; /* as the driver reports; driver: its version */
    uint64_t memory;              /* bytes */
    int compute_units;
    bool is_processor;            /* the machine's CPU: "gpu" and "auto" skip it */
} ft_device_info;

/* The result of checking an operator on ft_desc.device. */
typedef struct ft_device_check {
    const char *op;
    char shape[48];               /* of its first input; "": the operator has no kernel */
    const char *choice;           /* "processor", "kernel", "CLBlast", or the form of our matrix
                                     product: "plain", "tiled", "wide", "block",
                                     "Winograd", or "tensor" (ft_desc.precision) */
    float error;                  /* of value and gradients, relative to the largest */
    double device_seconds, host_seconds; /* forward and backward of the sample; 0: no clock */
} ft_device_check;

/* ---- Building a network ---- */

typedef enum ft_initialiser {
    FT_INIT_DEFAULT,          /* PyTorch's; Keras' if ft_network_options.keras_initialisers */
    FT_INIT_KAIMING_UNIFORM,  /* U(-b, b), b = 1/sqrt(fan_in): PyTorch's layers, weights and biases
                                 (its kaiming_uniform_ with a = sqrt(5)) */
    FT_INIT_KAIMING_NORMAL,   /* torchvision's ResNets: variance 2/fan_out (He et al. 2015) */
    FT_INIT_XAVIER_UNIFORM,   /* Keras' layers: U(-b, b), b = sqrt(6/(fan_in + fan_out)) (Glorot and
                                 Bengio 2010) */
    FT_INIT_ZEROS,
    FT_INIT_ONES,
    FT_INIT_QUARTER           /* 0.25: the slopes of prelu (He et al. 2015) */
} ft_initialiser;

/* Seconds in a node's operator since the model was created; 0 without ft_desc.clock. */
typedef struct ft_time { double forward, backward; } ft_time;

typedef enum ft_rotary_scaling { /* rope_type of Hugging Face's networks */
    FT_ROTARY_DEFAULT, FT_ROTARY_LINEAR, FT_ROTARY_LLAMA3
} ft_rotary_scaling;

typedef struct ft_rotary_options {
    int heads;              /* must divide the last size of x; default 1 */
    int dimensions;         /* numbers of each head that turn, the first ones; default: all */
    bool interleaved;       /* a pair is numbers 2 i and 2 i + 1; default: number i of both halves,
                               as in GPT-NeoX and Llama */
    float base;             /* theta; default 10000 */
    ft_rotary_scaling scaling;  /* LINEAR: frequencies divided by factor; LLAMA3: those of waves
                               longer than original_length / low_frequency_factor, no others than
                               original_length / high_frequency_factor, and between in part */
    float factor;           /* required with a scaling */
    float low_frequency_factor, high_frequency_factor; /* LLAMA3: default 1, 4 */
    int original_length;    /* LLAMA3: default 8192 steps */
    ft_node positions;      /* I32 [N, L]; default 0, 1, 2, ... */
} ft_rotary_options;

typedef enum ft_step_pooling {
    FT_POOL_LAST, FT_POOL_MEAN, FT_POOL_MAX,
    FT_POOL_ALL,            /* last, maximum and mean side by side, as in ULMFiT's head */
    FT_POOL_FIRST           /* BERT's [CLS] */
} ft_step_pooling;
/* What is learnt from texts. */
typedef enum ft_task {
    FT_TASK_AUTO,           /* what the data shows */
    FT_TASK_CLASSIFICATION, /* a class of each text, or of each pair of texts */
    FT_TASK_REGRESSION,     /* a number for each text or pair */
    FT_TASK_TOKENS,         /* a class of each word, such as the kind of a name */
    FT_TASK_EMBEDDINGS,     /* vectors that are near where texts mean the same */
    FT_TASK_LANGUAGE_MODEL  /* the next token */
} ft_task;

typedef struct ft_network_options {
    int classes;            /* default: as the network is usually published; 0 of those that write
                               text: language models */
    int image_size;         /* default: the same (224, or 32 for the CIFAR networks) */
    int channels;           /* of the image; default 3 */
    float width;            /* mobilenet_v1: default 1 */
    bool adjusted;          /* keras_cnn: a dense layer of 256 instead of 1024 */
    bool keras_initialisers;
    /* For networks that read text: */
    int words;              /* in the vocabulary; default: as many as the model's tokeniser has
                               pieces; without one 10000, char_rnn: 65 */
    int embedding;          /* features of a word; default 128, lstm_lm: 256 */
    int hidden;             /* features of a layer's state; default 256, char_rnn: 128 */
    int layers;             /* default 1 for a classifier, 2 for a language model */
    bool bidirectional;     /* classifiers */
    ft_step_pooling pooling;/* classifiers: default the last step. Transformers: also what makes
                               the vector of a text (ft_text_vector) */
    bool tied;              /* lstm_lm: the decoder's weight is the embedding's; needs hidden ==
                               embedding */
    float dropout;          /* locked, after the embedding and each layer; default 0. Transformers:
                               of single numbers, after the embeddings and each sublayer */
    float attention_dropout;/* transformers: of the attention's softmax */
    /* Transformers (hidden: default 768; layers: 12): */
    int heads;              /* of attention; required, unless a config.json says it */
    int feed_forward;       /* features between a layer's linear layers; default 4 * hidden */
    int positions;          /* rows of the table of positions; default 512, roberta: 514 */
    int token_types;        /* rows of that table; default bert 2, roberta 1, distilbert 0 */
    float norm_eps;         /* of the norms; default 1e-12, roberta, gpt2, meta_llama: 1e-5, llama,
                               qwen2, qwen3: 1e-6 */
    const char *activation; /* between those layers, as in ft_activation, or "gelu_new", GELU's
                               approximation by tanh; default "gelu", gpt2: "gelu_new", llama and
                               the others: "silu" */
    bool dense_head;        /* the class token, then a linear layer and an activation before the
                               last linear layer, as Hugging Face's ...ForSequenceClassification.
                               Default: `pooling`, where FT_POOL_LAST, its default, means
                               FT_POOL_MEAN here, then one linear layer */
    const char *prefix;     /* of the encoder's names, such as "bert."; default "" */
    /* Decoders (gpt2, llama, meta_llama, qwen2, qwen3), besides the fields of transformers: */
    int key_value_heads;    /* not gpt2: of keys and values; must divide heads; default: heads */
    int head_size;          /* not gpt2: numbers of a head; default hidden / heads */
    ft_rotary_options rotary; /* not gpt2: base, interleaved, scaling and its numbers; the other
                               fields must be zero */
    bool untied;            /* not gpt2: the last layer has a weight of its own, "lm_head.weight";
                               default: the embedding's */
    bool attention_bias;    /* llama, qwen3: biases of the attention's linear layers */
    bool feed_forward_bias; /* llama: of the others */
    bool normalize;         /* as in ft_text_vector_options; needs `pooling` */
    ft_task task;           /* FT_TASK_TOKENS: a class of each token, [N, L, classes], by a dropout
                               and a linear layer, as Hugging Face's ...ForTokenClassification.
                               FT_TASK_REGRESSION: a number, [N, 1], with ft_mse of the input
                               "target". Default: a class of each text; with 1 class a number */
    /* Vision transformers (heads: required of sizes that were never published): */
    const char *spelling;   /* of the parameters' names: "transformers" (default), as Hugging Face's
                               files have them; "transformers5", as its version 5 has ViT's in
                               memory; "timm"; of vit also "torchvision", "torchvision0.11" */
    int patch_size;         /* pixels of a patch's side; default 16, dinov2: 14 */
    bool distillation;      /* deit: always; a second token after the class token */
    bool two_heads;         /* deit: the mean of the logits of both tokens' own heads */
    bool layer_scale;       /* dinov2: always; a factor for each feature of a residual */
    bool no_qkv_bias;       /* the layers of q, k and v have none */
    bool mask_token;        /* keeps the pretraining's token, which nothing reads */
    bool patch_mean;        /* the head reads the class token and the mean of the patches, as in
                               Hugging Face's Dinov2ForImageClassification */
    float drop_path;        /* stochastic depth: in training the branch of each residual is zero for
                               a sample with this probability, or else divided by 1 - that; default
                               0. The same in all layers, as transformers' drop_path_rate; with
                               timm's names it grows linearly, from 0 in the first layer to this in
                               the last, as there */
} ft_network_options;

typedef struct ft_pair_loss_options {
    float scale;            /* of the cosines; default 20 */
    bool scored;            /* the pairs have numbers, the input "scores" F32 [N, 1], and the loss
                               is the mean of (cos(a_i, b_i) - score_i)^2: CosineSimilarityLoss of
                               sentence-transformers (Reimers and Gurevych 2019) */
} ft_pair_loss_options;

typedef struct ft_text_vector_options {
    bool normalize;         /* ft_embed_texts divides the vector by its length, so that the product
                               of two vectors is their cosine */
} ft_text_vector_options;

typedef struct ft_tokenizer ft_tokenizer; /* converts text to numbers and back */

typedef struct ft_language_model_to_classifier_options {
    int hidden;             /* adds a linear layer of this size and a relu before the last layer;
                               default: neither */
    float dropout;          /* before each of the head's linear layers; default 0 */
    ft_tokenizer *new_words;/* an FT_WORDS vocabulary of this model, built from the target texts.
                               Words that the model's vocabulary lacks are appended to it (to a new
                               tokeniser of the model), each starting as the mean of the
                               embedding's rows. Default: such words stay unknown */
} ft_language_model_to_classifier_options;

/* The factor on an adapter's result. */
typedef enum ft_lora_scaling {
    FT_LORA_AUTO,           /* FT_LORA_PLAIN below rank 32, FT_LORA_STABLE from there on */
    FT_LORA_PLAIN,          /* alpha / rank: Hu et al. 2021 */
    FT_LORA_STABLE          /* alpha / sqrt(rank): Kalajdzievski 2023, PEFT's use_rslora */
} ft_lora_scaling;

typedef struct ft_lora_options {
    int rank;               /* default 8 */
    float alpha;            /* default 16 */
    float dropout;          /* of the adapter's input, in training; default 0 */
    ft_lora_scaling scaling;
    bool dora;              /* DoRA (Liu et al. 2024): the length of each row of the sum (a filter
                               of a convolution, a column of an embedding) is trained by itself.
                               Call ft_lora once the weights are loaded: it starts as theirs */
    bool bias;              /* PEFT's lora_bias: trains a bias beside B, "<layer>.lora_B.bias"; not
                               with dora, nor of an embedding */
} ft_lora_options;

typedef struct ft_save_adapter_options {
    int transformers;       /* the version, 4 or 5 (default), of Hugging Face's transformers that
                               will open the adapter: the layers of ViT, DeiT and DINOv2 have other
                               names in each */
} ft_save_adapter_options;

typedef struct ft_merge_options {
    bool keep;              /* for ft_unmerge: the adapters, and the weights as they were, stay in
                               memory */
} ft_merge_options;

/* How a picture becomes the network's input; stored in the model file. */
typedef struct ft_preprocessing {
    int width, height, channels; /* of the network's input */
    int resize;             /* the shorter side is first resized to this (Pillow's antialiased
                               bilinear), then the centre is cut out; 0: both sides are resized to
                               width and height */
    float mean[4], std[4];  /* (pixel / 255 - mean) / std per channel, in units of 0..1, as in
                               torchvision's Normalize. mean: default 0. std has no default:
                               ft_set_preprocessing refuses one that is not above 0 */
    bool bicubic;           /* pictures are resized by Pillow's antialiased bicubic instead */
    bool stretch;           /* `resize` is of both sides, whatever the picture's shape: the centre
                               is cut out of that square */
} ft_preprocessing;

/* ---- Files ---- */

typedef struct ft_weights_options {
    const void *memory;     /* load from here instead of from a path ... */
    size_t bytes;
    const char *rename;     /* "from=to,from=to": replaces prefixes of the names in the file */
    bool allow_missing;     /* parameters that the file lacks keep their values */
    bool allow_unexpected;  /* skip tensors that the network lacks */
    bool allow_mismatched;  /* skip tensors of another shape (a new head) */
    bool map;               /* map the file instead of reading it; it must not shrink meanwhile:
                               see keep_types */
    const char *state_dict; /* PyTorch's checkpoints: the key of the weights, "model_ema" or
                               "a.b" for one inside another; default: the usual names, and where
                               averaged weights lie beside, not those; the log says so */
    bool keep_types;        /* matrices and kernels stay in the file's type (F16, BF16, or I8 with
                               scales; F32 in a mapped file) until they are trained, instead of
                               becoming float32 in memory. With `map`, they are used where they are
                               in the file, which must then stay as it is until ft_destroy, and so
                               must `memory`; tensors that are not aligned are copied. Not on an
                               OpenCL device */
    int sample[FINETUNE_MAX_RANK - 1]; /* ONNX: the sizes of a sample of the first input, such as
                               {3, 48, 192}; required if the file leaves more of them open than the
                               length of a sequence. 0: as in the file */
} ft_weights_options;

typedef struct ft_load_options {
    ft_weights_options weights;
    /* The network: a name as for ft_network, or the path of a file that describes it, as for
       ft_load_graph (a "." or "/" tells it from a name). Default: the description in the file, or
       recognised from the names and shapes in it. */
    const char *architecture;
    ft_network_options network;
    bool no_new_head;       /* for ft_embed_texts and FT_TASK_EMBEDDINGS: where the file has no head
                               and it is known how tokens become the vector of a text
                               (ft_text_vector), that is the output; default: a new head on it,
                               which must be trained */
} ft_load_options;

typedef struct ft_graph_options {
    const void *memory;     /* the description is here, not at a path ... */
    size_t bytes;
} ft_graph_options;

typedef struct ft_save_options {
    ft_type type;           /* FT_F16 or FT_BF16: of all weights; FT_F32 (default): each weight in
                               the type that it has in memory (ft_set_type), I8 with its scales as
                               "<name>_scale" [rows, 1, ...] */
    bool widen;             /* with FT_F32: weights in other types become float32 too */
    bool weights_only;      /* parameters and buffers alone, for ft_load_weights into a network that
                               is built again: needed if it has an operator of ft_custom */
    bool with_probabilities; /* ONNX: the output is probabilities, of logits divided by the
                               temperature (ft_calibrate): softmax, or sigmoid as the loss has it */
    bool with_preprocessing; /* ONNX: the input is bytes [N, height, width, channels], pictures of
                               the network's size; the graph computes (byte / 255 - mean) / std */
} ft_save_options;

typedef struct ft_tensor_info { /* one tensor of a file; pointers live as long as the ft_file */
    const char *name;
    ft_type type;
    ft_shape shape;
    uint64_t offset;        /* of its first byte in the file */
    uint64_t bytes;
    int64_t stride[FINETUNE_MAX_RANK]; /* in elements; row-major but for PyTorch's views and
                               NumPy's arrays in Fortran's order */
    const char *type_name;  /* as the file calls it; tells what FT_OTHER is */
    int shard;              /* of weights in several files: which of them has it, from 0 */
} ft_tensor_info;

/* ---- Text ---- */

typedef enum ft_tokenizer_kind {
    FT_CHARACTERS,          /* one piece per character */
    FT_WORDS,               /* words, split as BERT does; rare ones are "<unk>" */
    FT_WORDPIECE,           /* BERT's: the longest pieces of each word, "##" before inner ones */
    FT_BYTE_BPE,            /* GPT-2's: merged bytes */
    FT_SCORED_BPE,          /* SentencePiece's BPE, as in llama2.c */
    FT_BPE                  /* merged characters, as in Llama 2's tokenizer.json */
} ft_tokenizer_kind;

typedef struct ft_tokenizer_options {
    const void *memory;     /* load from here instead of from a path ... */
    size_t bytes;
    const char *merges;     /* for a vocab.json: its merges.txt; default: the one beside it */
    const void *merges_memory; /* or its text */
    size_t merges_bytes;
    bool cased;             /* for a vocab.txt: keep capitals and accents */
} ft_tokenizer_options;

typedef struct ft_vocabulary_options { /* for a tokeniser that is built from texts */
    int minimum_count;      /* leaves out rarer words or characters; default 1 */
    int most;               /* maximum number of pieces; 0: no limit */
    bool cased;             /* words: keep capitals and accents */
    bool spaces_only;       /* words: split at spaces only, not at punctuation */
} ft_vocabulary_options;

typedef struct ft_tokenize_options {
    bool special;           /* add what the kind puts around a text: [CLS] ... [SEP], or BOS */
    bool parse_special;     /* a special piece that the text spells, as "<|im_end|>", becomes that
                               piece, as in Hugging Face's tokenizers. Default: a text is only text,
                               and what a stranger writes ends nothing */
} ft_tokenize_options;

typedef struct ft_tokens { const int32_t *ids; int count; } ft_tokens;

/* How messages are written as one text. */
typedef enum ft_chat_template {
    FT_CHAT_AUTO,           /* by the tokeniser's pieces: "<|im_start|>" ChatML,
                               "<|start_header_id|>" Llama 3, "[INST]" Llama 2 */
    /* Qwen's and SmolLM's, without the system message that Qwen2 adds itself:
       <|im_start|>user\nTEXT<|im_end|>\n<|im_start|>assistant\nTEXT<|im_end|>\n */
    FT_CHAT_ML,
    /* <|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nTEXT<|eot_id|>, with TEXT
       trimmed; each message like this one, but for the first piece */
    FT_CHAT_LLAMA3,
    /* <s>[INST] <<SYS>>\nTEXT\n<</SYS>>\n\nTEXT [/INST] TEXT </s>; trimmed */
    FT_CHAT_LLAMA2
} ft_chat_template;

typedef struct ft_tokenize_pair_options {
    int longest;            /* cut to this many tokens, with those around and between the texts, as
                               Hugging Face's "longest_first": of the longer text, then of both; 0:
                               no cut */
} ft_tokenize_pair_options;

typedef struct ft_pair_tokens { /* types: of each token, 0 or 1; RoBERTa's are all 0 */
    const int32_t *ids, *types;
    int count;
} ft_pair_tokens;

/* ---- Data ---- */

/* Where a data source writes one tensor of one sample. */
typedef struct ft_slot {
    const char *name;       /* of the input node: "input", "labels", ... */
    ft_type type;
    ft_shape shape;         /* of one sample, without the batch */
    void *values;           /* row-major */
    int length;             /* the source sets it for sequences: how many steps are real */
} ft_slot;

/* A source of samples with random access. get() fills the slots that it knows and returns false if
   the sample cannot be read (it is then left out). View 0 is the plain sample. Other views are
   augmented and depend only on (seed, index, view). Several threads call get() at once. */
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
    void (*release)(void *user);                  /* optional: called once, when the ft_data ends */
    /* Optional: a hash of everything that get() makes this view from, the label included. Without
       it ft_desc.cache keeps nothing of this source, and a resumed run checks its samples by
       name and label only. */
    uint64_t (*digest)(void *user, int index, int view);
    int (*length)(void *user, int index);         /* optional: the steps of a sequence; without it
                                                     slots have room for ft_length(m) steps */
    int streams;                       /* 0: samples are independent. Otherwise sample i + streams
                                          continues sample i: they are read in order, `streams` to
                                          a batch, and state is carried from batch to batch */
    float (*weight)(void *user, int index);       /* optional: in the training loss, at least 0;
                                                     default 1. A batch's loss is the sum of weight
                                                     times loss by the sum of weights (0 if that is
                                                     0). What is measured (held-back samples,
                                                     ft_evaluate) has no weights */
} ft_source;

typedef enum ft_augment_policy {
    FT_NO_POLICY,
    FT_TRIVIAL_AUGMENT,     /* one random change of random size (Mueller and Hutter 2021) */
    FT_RAND_AUGMENT         /* `operations` random changes of size `magnitude` (Cubuk et al.
                               2020) */
} ft_augment_policy;

/* How the views other than 0 of a picture differ from it. Everything that is set is applied, in
   this order: scale, shift, flip, flip_vertical, the affine change (degrees, zoom, shear), colours,
   blur, policy, erase. Each draws its numbers as the class of torchvision.transforms that is named
   here, with that class's defaults, and computes what that does with tensors of uint8. */
typedef struct ft_augmentation {
    float shift;            /* at most this share of width and height, in each direction */
    float scale;            /* RandomResizedCrop: at least this share of the area; 0: no crop */
    bool flip;              /* RandomHorizontalFlip: mirror half of the views left to right */
    bool flip_vertical;     /* RandomVerticalFlip: turn half of the views upside down */
    float degrees;          /* RandomAffine, bilinear: turn by at most this angle, up to 180, */
    float zoom;             /* scale by 1 - zoom to 1 + zoom, below 1, */
    float shear;            /* and shear along x by at most this angle, in degrees, below 90 */
    float brightness, contrast, saturation; /* ColorJitter: factors of 1 - this to 1 + this, */
    float hue;              /* turned by at most this share of the circle, up to 0.5 */
    float blur;             /* GaussianBlur: sigma of 0.1 to this many pixels, up to 20 */
    float erase;            /* RandomErasing: the share of the views in which it erases */
    ft_augment_policy policy; /* TrivialAugmentWide or RandAugment */
    int operations;         /* of FT_RAND_AUGMENT: 1 to 8, default 2 */
    int magnitude;          /* of FT_RAND_AUGMENT: 1 to 30, default 9 */
} ft_augmentation;

typedef struct ft_image_folder_options {
    int per_class;          /* use only this many per class, drawn by the seed; 0: all */
    ft_augmentation augmentation; /* of views other than 0; all zero: chosen by ft_finetune */
    size_t cache_bytes;     /* most memory for decoded pictures; default 512 MiB, or a quarter of
                               what memory_budget leaves. ft_fit releases them where only that makes
                               room for the outputs of the frozen layers */
    bool no_groups;         /* never group files by name. Default: files NNNNN_MMMMM.* are frames
                               MMMMM of tracks NNNNN if classes have two tracks or more on average;
                               tracks are held back as a whole, and the log says so */
    bool match_classes;     /* the folder's classes must be among the model's (for evaluation) */
    const ft_data *classes_of; /* the classes must be among those of this data. For a model that is
                               not trained on it yet: finds a mismatch before the training */
    bool group_by_name;     /* NUMBER_NUMBER.* are frames of tracks, with any number of digits and
                               of tracks */
} ft_image_folder_options;

typedef struct ft_picture_size { int width, height; } ft_picture_size;

typedef struct ft_pixels_options {
    int channels;           /* of every picture: 1 grey, 2 grey and alpha, 3 RGB (default), 4 RGBA;
                               converted to the network's channels as in ft_predict_pixels */
    int classes;            /* labels must be below it; 0: the largest label plus one */
    const char *const *class_names; /* [classes], copied; or NULL: classes have no names */
    ft_augmentation augmentation; /* as in ft_image_folder_options */
    size_t cache_bytes;     /* most memory for resized pictures; default and use as in
                               ft_image_folder_options. A picture without room is resized again at
                               each use */
    const int *groups;      /* [count], copied: pictures of the same number, such as frames of one
                               video, are held back together; or NULL: each is its own group */
    const float *weights;   /* [count], copied: as ft_source.weight; or NULL: all are 1 */
} ft_pixels_options;

/* A further input of ft_arrays: `values` are [count, that input's shape], float, or int32_t if the
   input is FT_I32, and must stay valid as long as the data. The name is copied. */
typedef struct ft_array { const char *name; const void *values; } ft_array;

typedef struct ft_array_options {
    int classes;            /* labels must be below it; 0: the largest label plus one */
    const char *input, *labels; /* names of the nodes; default "input" and "labels". Values are
                               used as they are: the model's preprocessing is not applied */
    const float *targets;   /* for a regression: [count, target_size], or NULL */
    int target_size;        /* numbers of a sample's target: as many as the node `target` has */
    const char *target;     /* the name of that node, F32; default "target" */
    const float *weights;   /* [count]: as ft_source.weight; or NULL: all are 1 */
    const ft_array *more;   /* the network's other inputs */
    int more_count;
} ft_array_options;

/* Of pictures in one array: where the channels are. */
typedef enum ft_array_layout {
    FT_LAYOUT_AUTO,         /* as the sizes show it; an error if they show both */
    FT_LAYOUT_NCHW, FT_LAYOUT_NHWC
} ft_array_layout;

typedef struct ft_array_file_options {
    const char *samples, *labels; /* names of the arrays; default: "x", "X", "x_train", "images",
                               "data" and their like, and "y", "labels", "targets", ...; labels that
                               are not found are no error until something needs them */
    bool evaluation;        /* "x_test", "x_val" and their like come first, with their labels */
    ft_array_layout layout; /* of pictures with channels */
    int classes;            /* labels must be below it; 0: the largest label plus one */
    const char *input;      /* the network's input; default "input" */
    ft_augmentation augmentation; /* of pictures of 8 bits, as in ft_image_folder_options */
    const void *memory;     /* the file is here, not at a path ... */
    size_t bytes;
} ft_array_file_options;

/* Is the first line of a .tsv or .csv a header? */
typedef enum ft_table_header {
    FT_HEADER_AUTO,         /* yes if it has a column of a known name; an error if that is
                               uncertain */
    FT_HEADER_YES, FT_HEADER_NO
} ft_table_header;

typedef struct ft_text_options { /* for labelled texts */
    /* Names in the header (case is ignored) or numbers from 1. Several text columns, separated by
       commas ("title,body"), are joined by a space. Default: "text", "sentence", "review", ... and
       "label", "class", "category", ...; without a header the first of two columns is the text.
       The log says which columns were chosen. */
    const char *text_column, *label_column;
    const char *format;     /* "tsv", "csv" or "jsonl"; default: from the path's end, else TSV */
    ft_tokenizer *tokenizer;/* default: the model's; if it has none, one is built from the words of
                               these texts and becomes the model's, unless rows of words were
                               loaded: they need their own (FT_INVALID) */
    ft_vocabulary_options vocabulary; /* for that one */
    int longest;            /* keep this many tokens of a text, [CLS] and [SEP] among them, as
                               ft_set_max_length does; default: ft_max_length(m) */
    int per_class;          /* use only this many per class, drawn by the seed; 0: all */
    bool match_classes;     /* the labels must be among the model's classes (for evaluation) */
    bool unlabelled;        /* there are no labels: all texts are of one class */
    const void *memory;     /* a table in memory instead of a path */
    size_t bytes;
    /* For views other than 0, which ft_fit_options.augment trains on; both need FT_WORDS: */
    bool shuffle;           /* puts the words in another order, drawn for each view */
    float subsample;        /* drops words at random whose share f of all words is larger, say than
                               1e-3: sqrt(subsample / f) of them remain (Mikolov et al. 2013), and
                               at least one word of a text. 0 (default): drops none */
    const ft_data *classes_of; /* as match_classes, but among the classes of this data, which the
                               model is not trained on yet */
    ft_table_header header; /* of a .tsv or .csv */
    ft_task task;           /* how the texts are read; default: what they show, and the log says it.
                               FT_TASK_CLASSIFICATION: labels are classes; FT_TASK_REGRESSION: they
                               are numbers, as is recognised if all are and one has a fraction:
                               whole numbers alone are classes; FT_TASK_LANGUAGE_MODEL: as
                               `unlabelled`; FT_TASK_EMBEDDINGS: text_column names the columns of
                               two texts that mean the same, or with label_column numbers that say
                               how similar they are: the cosines of their vectors shall follow
                               them */
    bool pair;              /* the two text columns hold the texts of a pair, which a network reads
                               as one sequence (ft_tokenize_pair): they are not joined. So are,
                               without it, columns of these names: sentence1, sentence2; premise,
                               hypothesis; question, sentence; sentence_A, sentence_B; query,
                               passage; and their like */
    float minimum_score;    /* FT_TASK_EMBEDDINGS with label_column: only pairs whose number is at
                               least this; they are trained as such that mean the same */
} ft_text_options;

typedef struct ft_stream_options { /* for one text and a language model */
    int streams;            /* rows of a batch: the text is cut into this many; default 32 */
    int steps;              /* of a row in a batch: how far gradients reach back; default 64 */
    const char *text_column;/* of a table: joins its texts, as in ft_text_options. Default: a whole
                               file; with `table`, the column that is found */
    const char *format;     /* as in ft_text_options */
    ft_tokenizer *tokenizer;/* as in ft_text_options */
    ft_tokenizer_kind vocabulary_kind; /* of one that is built: FT_CHARACTERS (default), FT_WORDS */
    ft_vocabulary_options vocabulary;
    const void *memory;     /* instead of a path */
    size_t bytes;
    bool table;             /* the file is a table, even if text_column is not set */
    ft_table_header header; /* of a .tsv or .csv */
} ft_stream_options;
