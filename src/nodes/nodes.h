#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "platform/families.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "kernels/stored.h"
#include "nodes/operators.h"

/* =============================================================================================
   [SECTION] nodes/nodes: Nodes and parameters
   A node is one tensor and the operator that makes it. Inputs, parameters, buffers and constants
   are nodes too: their operator computes nothing. Ids are positions in `nodes` plus one.
   ============================================================================================= */
/* The size of a run, or the largest size that there is room for. */
typedef struct ft__extent { int batch, length; } ft__extent;

static const ft__extent ft__one = {1, 1};

typedef struct ft__tensor { /* what an operator sees of a node during a run */
    ft_shape shape;         /* with the run's batch and length filled in */
    bool channels_last;     /* [N, C, H, W], stored as [N, H, W, C] */
    const int *order;       /* dimension `at` in memory, outermost first, is order[at]; NULL: as
                               channels_last says. Of FT__STRIDED operators */
    ft_type type;
    float *value;
    ft__stored typed;       /* a weight in another type: then `value` is NULL. Only operators with
                               FT__READS_TYPES see one, and only after their first input */
    float *gradient;        /* NULL: nobody needs it */
    bool fresh;             /* the gradient is still empty: backward writes instead of adding */
} ft__tensor;

static int32_t *ft__integers(const ft__tensor *t) { return (int32_t *)(void *)t->value; }
static size_t ft__count(const ft__tensor *t) { return ft__shape_count(&t->shape); }

typedef struct ft__reshape_options { int rank; int size[FINETUNE_MAX_RANK]; } ft__reshape_options;
typedef struct ft__concat_options { int axis; } ft__concat_options; /* and gather's */
typedef struct ft__permute_options { int axes[FINETUNE_MAX_RANK]; } ft__permute_options;

typedef struct ft__recurrent_options { /* of one layer */
    int hidden;
    bool bidirectional, no_bias, relu;
    bool lengths, initial;  /* whether it has these inputs */
    bool cells;             /* lstm: the output has the cells beside the hidden states */
    bool carry;             /* the model keeps the state: the last one replaces the initial one */
    bool reset_before;      /* gru: the reset gate before the product, ft_recurrent_options */
} ft__recurrent_options;

typedef ft_custom_options ft__callbacks; /* in no file */

/* By operator: each O(NAME) of the list has the member NAME; others share these. The row lists the
   fields that a file keeps. */
#define FT__OWN_OPTIONS(name) ft_##name##_options name;
#define FT__NO_OPTIONS(name)
typedef union ft__options {
    FT__OPERATORS(FT__NO_OPTIONS, FT__OWN_OPTIONS)
    ft_pool2d_options pool2d;
    ft_activation_options activation;
    ft__reshape_options reshape;
    ft__concat_options concat;
    ft__permute_options permute;
    ft_loss_options loss;
    ft_unary_options unary;
    ft_reduce_options reduce;
    ft__callbacks custom;
    ft__recurrent_options recurrent;
} ft__options;

/* What one update does to a row without a gradient (optimizers/embedding_rows). */
typedef struct ft__missed_update { float step, eps, decay, beta1; } ft__missed_update;

/* For an embedding's weight: the rows that an update must visit. */
typedef struct ft__resting {
    uint64_t version;       /* of the graph that it was made for */
    uint32_t updates;       /* made so far */
    bool moves;             /* rows without a gradient change too (Adam) */
    float beta2;
    int words, features;
    uint32_t *done;         /* [words]: updates applied to each row */
    int32_t *used;          /* [words]: rows with a gradient, in order of arrival */
    int32_t *late;          /* [words]: rows to catch up, ... */
    uint32_t *since;        /* [words]: ... each from this update on */
    unsigned char *is_used; /* [words] */
    double *squares;        /* [words / 16 + 1]: sums of squared gradients, of 16 rows each */
    int used_count;
    ft__missed_update *past;         /* [FT__PAST]: the last updates, u at u % FT__PAST */
} ft__resting;

/* How a value lies in memory: chosen by graph/layout. */
typedef struct ft__layout {
    bool channels_last;     /* [N, C, H, W] is stored as [N, H, W, C] */
    char before;            /* 1 + channels_last in the graph of before; 0: it was not there */
    bool decided;           /* while it is chosen: something that reads the value has a wish */
    int copy;               /* > 0: readers that want the other layout read this copy of it */
    int source;             /* > 0: a view: it is not computed, its memory is this node's, ... */
    int order[FINETUNE_MAX_RANK]; /* ... where its dimensions lie in this order, outermost first */
    bool strided;           /* that order is neither row by row nor channels-last */
} ft__layout;

/* A mapped file, or memory of the caller: its weights are used where they are. */
typedef struct ft__mapping {
    void *file;             /* its handle; NULL: the memory is the caller's */
    const unsigned char *bytes;
    uint64_t size;
    int users;              /* weights, and the ft_file while it is open */
} ft__mapping;

typedef struct ft__node {
    int op;                 /* FT__OP_conv2d, ... */
    char *name;
    ft_type type;
    ft_shape shape;         /* may contain FT_BATCH and FT_LENGTH */
    int *inputs;            /* ids */
    int input_count;
    ft__options options;
    bool frozen;            /* parameters, buffers, and dropout */
    bool keep_value;        /* ft_keep: it can be read after a run */
    bool want_gradient;     /* ft_want_gradient: so can its gradient after backward */
    float *value;           /* of parameters and buffers, and of inputs: what was fed */
    ft__stored stored;      /* of parameters: the numbers, if they are not float32; see
                               nodes/storage */
    ft__mapping *mapping;   /* that `value` or `stored` is part of; NULL: the model owns them */
    ft__extent capacity;    /* inputs: how many samples and steps fit ... */
    ft__extent fed;         /* ... and how many were fed; batch 0: nothing was fed */
    uint64_t fed_before;    /* inputs: the model's runs before that */
    /* Parameters and buffers only: */
    bool loaded;            /* its weights came from a file */
    bool transposed;        /* [rows, columns] here, [columns, rows] in files */
    bool borrowed, lent;    /* ft_share: the value is another model's; other models may use it */
    ft_initialiser initialiser;
    int fan_in, fan_out;
    float learning_rate_factor, weight_decay; /* weight_decay < 0: the optimiser's */
    float *gradient, *moment1, *moment2;      /* while it is trained; else NULL */
    ft__resting *resting;   /* of an embedding's weight if its unused rows wait; else NULL */
    float *kept;            /* a copy of the value at the best, or last good, epoch of a fit */
    float *average;         /* of the value, during a fit (training/averages); or NULL */
    float *start;           /* the value before the fit, if it is averaged with it; or NULL */
    ft_time time;           /* spent in its operator so far */
    int chained;            /* the next id of its chain in nodes/names; 0: the end */
    ft__layout layout;
} ft__node;

typedef struct ft__row ft__row; /* operators/table */

/* While text is generated: what attention keeps of the steps before (graph/decoding). */
typedef struct ft__decoding {
    int rows, room;         /* samples; steps that fit */
    int *past;              /* [rows]: steps before this run */
    float **kept;           /* per node: of so many bytes as its costs say; or NULL */
    float *workspace;       /* of the operators that see them */
} ft__decoding;

/* One call of an operator's function. */
typedef struct ft__call {
    ft__context *context;
    const ft__node *node;
    const ft__tensor *input;
    int input_count;
    ft__tensor output;
    void *saved;            /* kept from forward for backward; the operator's row gives its size */
    float *workspace;       /* scratch; the row gives its size */
    float *prepared;        /* weights in the form that forward uses, kept across calls; the row
                               gives the size; NULL: the weights change in each step */
    bool prepare;           /* `prepared` must be recomputed */
    bool training;          /* batch statistics, dropout on */
    bool again;             /* second run in this step: must not change what outlives the step */
    bool restore;           /* ... and `saved` is still valid: FT__RESTORES */
    uint64_t random;        /* key for this node in this step */
    int length;             /* steps of this run's sequences */
    const ft__row *fused;   /* an activation to apply to the output, or NULL */
    const ft__options *fused_options;
    const float *sample_weights, *class_weights; /* of the model's loss; NULL: all are 1 */
    float other_share;      /* of the label of the sample before (of the first: the last) in the
                               loss of each (mixup); 0: each sample has its own label alone */
    const int *past;        /* [N]: this run continues sequences of so many steps; NULL: it starts
                               them. Only FT__AFTER_PAST operators see it */
    float *kept;            /* with past: as in ft__decoding, with room for `room` steps */
    int room;
} ft__call;

/* A field of an operator's options, for files: kind 'i' int, 'f' float, 'b' bool. */
typedef struct ft__field {
    const char *name;
    size_t offset;
    int count;
    char kind;
} ft__field;

typedef struct ft__plan ft__plan;           /* graph/plan */
typedef struct ft__optimizer ft__optimizer; /* optimizers/options */
typedef struct ft__sharing ft__sharing;     /* nodes/sharing */
typedef struct ft__merged ft__merged;       /* graph/merging */

struct ft_model {
    ft__context context;    /* first: everything that can fail needs it */
    ft__node *nodes;
    int node_count, node_capacity;
    int *order;             /* ids in the order of execution */
    int *chains;            /* [chain_mask + 1], of nodes/names; NULL: no node yet */
    size_t chain_mask;
    ft_node output, loss;
    ft_node text_vector;    /* of ft_set_text_vector; {0}: none */
    ft_text_vector_options vector_options;
    ft_preprocessing preprocessing;
    char *architecture;     /* "" if it was built by hand */
    char *cache;            /* ft_desc.cache */
    size_t reserve;         /* bytes that a run needs besides its plan */
    int moments;            /* values that the optimiser keeps per trained number */
    char *graph_text;       /* what ft_graph_text returned last; NULL: nothing */
    char *training;         /* JSON: the settings of the last fit; NULL: none */
    ft__text notes;         /* the other __metadata__ of the loaded file: a key, its text, the next
                               key ..., each ending in a 0 */
    int note_count;         /* keys */
    char **class_names;
    int class_count;
    char not_found[100];    /* the last name that ft_find looked for and did not find */
    bool keras_initialisers;
    bool values_follow;     /* new parameters get their values from a file later, ... */
    bool memory_follows;    /* ... and the memory for them too */
    uint64_t version;       /* counts changes of the graph or of what is frozen: plans are remade */
    uint64_t layouts_for;   /* the version + 1 that graph/layout chose for */
    int copies;             /* of values in another layout */
    uint64_t weights_version; /* counts changes of weights: folded copies are remade */
    uint64_t trained_version; /* counts changes by training, of what is not frozen */
    uint64_t step;          /* training steps made so far: part of the keys of dropout */
    int batch;              /* samples fed for the next run */
    const ft_source *fed_from; /* what they came from, and their indices there; NULL: fed by hand */
    const int *fed_samples;
    int length;             /* steps of its sequences */
    ft__plan *last_run;     /* the last run's plan, whose values ft_get reads; NULL: no run, or its
                               inputs were overwritten since */
    ft__extent ran;         /* its size */
    bool ran_loss;          /* it computed the loss too */
    int ran_from;           /* its first step: ft_fit may have the values of those before in a
                               cache */
    uint64_t runs;          /* made so far */
    uint64_t finite[3];     /* the versions + 1 of weights that were found to be finite */
    const float *sample_weights, *class_weights; /* of the run's loss; NULL: all are 1 */
    float other_share;      /* as in ft__call */
    float *fed_weights;     /* by ft_feed_weights, of so many samples; NULL: none */
    int fed_weight_count;
    bool gradients_wait;    /* some were added that no update has used */
    bool backward_done;     /* since the last forward run */
    ft__plan *plans[2];     /* evaluation, training */
    ft__plan *in_use;       /* that of a run which calls the user back: it is not given up */
    ft__optimizer *optimizer;
    ft__decoding *decoding; /* during a run that continues texts; else NULL */
    ft__merged *merged;     /* what ft_unmerge needs, the last layer first; NULL: nothing */
    ft_model *owner;        /* of the weights, if ft_share made this model; else NULL */
    ft__sharing *sharing;   /* the owner's; NULL: nothing was shared so far */
    ft_data *data;          /* list of the data sources it owns */
    ft_tokenizer *tokenizers; /* list of the tokenisers it owns */
    ft_tokenizer *tokenizer;  /* of its texts, one of the list; NULL: none */
    char *tokenizer_text;     /* JSON for the model file; NULL: none */
    int max_length;           /* the most tokens read of a text; 0: the default */
    bool pairs;               /* a sample is a pair of texts */
    float temperature;        /* that divides logits before they become probabilities; 0: none */
};

/* Whether calls on a model do anything: there is one, and it had no error. A NULL model is one that
   there was no memory for. */
static bool ft__usable(const ft_model *m) { return m && ft__ok(&m->context); }
static ft_status ft__status_of(const ft_model *m) { return m ? m->context.status : FT_MEMORY; }

/* Whether a family of functions is compiled (platform/families); else an error of the model. Its
   value is a constant, so that the compiler drops what follows. */
#define FT__HAS(m, family) \
    (FT__HAS_##family || (ft__not_built(m, __func__, FT__WITHOUT(family)), false))
static void ft__not_built(ft_model *m, const char *call, const char *macro)
{
    if (ft__usable(m))
        ft__fail(&m->context, FT_UNSUPPORTED, "%s: not supported by this build (%s)", call, macro);
}

static ft__node *ft__get_node(const ft_model *m, ft_node node)
{
    return m && node.id > 0 && node.id <= m->node_count ? &m->nodes[node.id - 1] : NULL;
}

/* Whether a node's value is read after a run, although it need not be the output or the loss. */
static bool ft__is_kept(const ft_model *m, int id)
{
    return m->nodes[id - 1].keep_value || id == m->text_vector.id;
}

static ft_status ft__set_architecture(ft_model *m, const char *name)
{
    char *copy = ft__copy_text(&m->context, name);
    if (!copy) return m->context.status;
    ft__release(&m->context, m->architecture);
    m->architecture = copy;
    return FT_OK;
}
