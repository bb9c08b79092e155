#pragma once
#include "interface/types.h"
#include "interface/operators.h"

/* =============================================================================================
   [SECTION] interface/training_types: Types and options of training and prediction
   ============================================================================================= */
typedef enum ft_optimizer {
    FT_ADAMW,      /* Loshchilov and Hutter 2019 */
    FT_ADAM,       /* Kingma and Ba 2015 */
    FT_SGD,        /* with momentum: Sutskever et al. 2013, in the form that PyTorch documents */
    FT_RMSPROP,    /* Tieleman and Hinton 2012 */
    FT_ADAGRAD,    /* Duchi, Hazan and Singer 2011 */
    FT_NADAM,      /* Dozat 2016, with PyTorch's momentum_decay of 4e-3 */
    FT_RADAM,      /* Liu et al. 2020 */
    FT_LION,       /* Chen et al. 2023: one number of state for each weight; wants a third to a
                      tenth of AdamW's rate, and as many times its weight decay */
    FT_ADAFACTOR   /* Shazeer and Stern 2018, as PyTorch's: a matrix has a number of state for each
                      row and each column only; steps are relative to the weights' size */
} ft_optimizer;
typedef enum ft_schedule {
    FT_CONSTANT,
    FT_STEP,       /* times gamma after every step_epochs epochs */
    FT_COSINE,     /* to 0 at the end (Loshchilov and Hutter 2017, without restarts) */
    FT_ONE_CYCLE,  /* up from 1/25 over the first 30 %, then down to 1/25/10^4, both as cosines:
                      Smith and Topin 2018 with the defaults of PyTorch's OneCycleLR. ft_fit also
                      moves beta1, or a momentum that is not 0, from 0.95 to 0.85 and back, unless
                      fixed_momentum is set; not NAdam's, which has a schedule of its own */
    FT_LINEAR,     /* to 0 at the end, in a straight line: usual for transformers, after a
                      warm-up */
    FT_WARM_RESTARTS, /* a cosine to 0 over step_epochs epochs, then again (Loshchilov and Hutter
                      2017); each is gamma times as long as the one before, default 1 */
    FT_POLYNOMIAL, /* to 0 at the end, as (1 - share of the steps)^gamma, default 1 */
    FT_INVERSE_SQRT, /* 1 / sqrt(1 + steps since the warm-up / steps of the warm-up, at least 1)
                      (Vaswani et al. 2017) */
    FT_PLATEAU     /* times gamma when the held-back loss, or without held-back samples the training
                      loss, was not lower by 1e-4 of itself for more than step_epochs epochs, as
                      PyTorch's ReduceLROnPlateau */
} ft_schedule;

/* The defaults are PyTorch's. */
typedef struct ft_optimizer_options {
    ft_optimizer optimizer; /* default AdamW */
    float learning_rate;    /* for ft_fit, before its schedule; default 1e-3; SGD, RMSprop, Adagrad
                               and Adafactor: 1e-2; NAdam: 2e-3; Lion: 1e-4. In the loop by hand
                               ft_update's argument is used instead */
    float momentum;         /* SGD and RMSprop: default 0 */
    bool nesterov;          /* SGD with momentum: Nesterov's form, which looks ahead */
    float beta1, beta2;     /* default 0.9, 0.999 (Lion: 0.99); of the four Adams and Lion */
    float eps;              /* default 1e-8 (Adagrad: 1e-10); not of SGD, Lion and Adafactor */
    float weight_decay;     /* default 0; that of AdamW, Lion and Adafactor shrinks the weight, that
                               of the others is added to the gradient */
    float clip_norm;        /* scales the gradients down if their norm, over all of them, is larger
                               (Pascanu et al. 2013); 0: never */
    float alpha;            /* RMSprop: of the mean of squares; default 0.99 */
} ft_optimizer_options;

typedef enum ft_metric {     /* names: ft_metric_name */
    FT_METRIC_AUTO,          /* the task's own: entity F1 where the classes are O, B-TYPE, I-TYPE,
                                else accuracy; the loss of a language model and of a regression */
    FT_METRIC_LOSS, FT_METRIC_ENTITY_F1, /* not in ft_metrics: ft_evaluation.loss and .f1 */
    /* Of one class for each sample. Averages over classes, each from its own samples: macro counts
       each class that is labelled or guessed once, weighted by its samples; micro counts all
       samples at once, which is the accuracy. A class without guesses has precision 0, one without
       samples recall 0. */
    FT_METRIC_ACCURACY,
    FT_METRIC_TOP5,          /* the label is among the 5 most probable classes, of equally probable
                                ones the last, as scikit-learn counts; for more than 5 classes */
    FT_METRIC_PRECISION_MACRO, FT_METRIC_PRECISION_MICRO, FT_METRIC_PRECISION_WEIGHTED,
    FT_METRIC_RECALL_MACRO, FT_METRIC_RECALL_MICRO, FT_METRIC_RECALL_WEIGHTED,
    FT_METRIC_F1_MACRO, FT_METRIC_F1_MICRO, FT_METRIC_F1_WEIGHTED,
    FT_METRIC_ROC_AUC,       /* of two classes that of the second; of more the mean over one class
                                against all others, of the classes that have samples */
    FT_METRIC_AVERAGE_PRECISION, /* likewise: the sum of (R_n - R_n-1) P_n over all thresholds */
    FT_METRIC_KAPPA,         /* Cohen 1960 */
    FT_METRIC_MCC,           /* Matthews 1975, for more classes Gorodkin 2004 */
    FT_METRIC_CALIBRATION_ERROR, /* expected calibration error: samples in 15 bins of equal width,
                                (k/15, (k+1)/15], by the probability of their guess; the mean over
                                samples of |their bin's accuracy - its mean probability| (Naeini et
                                al. 2015, Guo et al. 2017) */
    FT_METRIC_LOG_LOSS,      /* -log(the label's probability), which is at least 2.2e-16 there */
    /* Of numbers: the mean over the outputs of a sample. */
    FT_METRIC_MAE, FT_METRIC_RMSE, FT_METRIC_R2,
    FT_METRIC_PEARSON, FT_METRIC_SPEARMAN, /* of one number */
    FT_METRIC_COUNT
} ft_metric;

typedef struct ft_parameter_group { /* for ft_set_groups */
    const char *glob;       /* on the names of parameters */
    float rate_factor;      /* on the learning rate; default 1 */
    float weight_decay;     /* default: the optimiser's */
    bool no_decay;          /* no weight decay, whatever the optimiser's is */
    bool frozen;            /* as after ft_freeze; else trained, as after ft_unfreeze */
} ft_parameter_group;

typedef struct ft_progress {
    int epoch, epochs;      /* from 0; how many in all */
    int step, steps;        /* in this epoch, from 1; how many in all */
    int batch;              /* samples in this step; 0, like learning_rate, if epoch_done */
    const char *stage;      /* ft_fit_options.stage; of ft_finetune "trial", "head" or "all" */
    double loss, accuracy;  /* on the training samples of this epoch so far; accuracy -1: the loss
                               has no class labels, as in a regression */
    float learning_rate;
    bool epoch_done;
    double held_back_accuracy, held_back_loss; /* at the end of an epoch; negative: not measured */
    bool preparing;         /* before the first step: `step` batches of `steps` went through the
                               frozen prefix, `batch` samples in the last; nothing is trained yet */
    ft_metric metric;       /* that the best epoch and `patience` follow; FT_METRIC_AUTO: nothing is
                               held back */
    double held_back_metric; /* at the end of an epoch; NaN where it is not defined, 0 if nothing
                               was measured */
    double step_loss;       /* of this step's samples alone; 0 if epoch_done */
} ft_progress;

typedef struct ft_fit_options {
    int epochs;             /* default 10 */
    int batch_size;         /* default 32, or all samples if there are fewer. An epoch's last batch
                               may be smaller; a last batch of one sample is dropped, since batch
                               norm needs two */
    ft_optimizer_options optimizer;
    ft_schedule schedule;
    int step_epochs;        /* FT_STEP, FT_WARM_RESTARTS, FT_PLATEAU: default 10 */
    float gamma;            /* FT_STEP, FT_PLATEAU: default 0.1; FT_WARM_RESTARTS: at least 1, and
                               FT_POLYNOMIAL: default 1 */
    float warmup_epochs;    /* linear, from 0; default 0 */
    float hold_back;        /* share of the data that is not trained on but measured after each
                               epoch, split by class and group; default 0 */
    bool best;              /* end with the weights of the best held-back epoch (by `metric`, of
                               equal ones the one of lower loss), not of the last */
    int patience;           /* stop after this many epochs without a better one; 0: never */
    bool no_cache;          /* recompute the frozen prefix at each step */
    int views;              /* with `augment`: how many augmented views of each sample the cache of
                               the frozen prefix holds; default 8 */
    bool augment;           /* train on augmented views (the data says which) */
    size_t cache_bytes;     /* memory for the outputs of the frozen prefix; default 1 GiB. The rest
                               is read from ft_desc.cache or, without one, recomputed each epoch */
    const char *checkpoint; /* a file that a killed run continues from, safetensors whatever its
                               name; NULL: none */
    int checkpoint_steps;   /* write it also every this many steps; 0: at each epoch only */
    const char *stage;      /* a name for progress and checkpoint */
    /* Called after each step and each epoch, on the thread that called ft_fit; false stops the run.
       On a GPU the next step is already running then: it is finished, counted and kept. Before the
       first step it is called after each batch whose outputs of the frozen prefix were computed for
       the cache: ft_progress.preparing. */
    bool (*progress)(void *user, const ft_progress *progress);
    void *progress_user;
    /* Weights of the classes in the training loss, as `weight` of PyTorch's cross_entropy: each
       label's loss times its class's weight, by the sum of the labels' weights. One for each class
       of the loss's logits, at least 0; class_weight_count says how many. NULL: all are 1. */
    const float *class_weights;
    int class_weight_count;
    bool balanced;          /* such weights from the data: samples / (classes * samples of the
                               class) of what is trained on, so that rare classes count as much as
                               frequent ones (scikit-learn's "balanced") */
    int accumulate;         /* batches for each update; default 1. Their gradients add up to those
                               of one batch of all their samples, which then need not fit in memory
                               at once; only batch norm sees the small batches. Schedules count
                               updates. A run that is stopped ends with the next update */
    int most_steps;         /* stop after this many updates, if `epochs` have more; the schedule
                               ends there too, and the epoch that is cut short counts as one. 0: no
                               limit */
    ft_metric metric;       /* of the held-back samples, that `best`, `patience` follow; default:
                               the task's own. Lower errors and losses are better. An epoch for
                               which it is not defined is worse than all others */
    bool balanced_sampling; /* draw each class equally often instead: as many samples in an epoch as
                               before, of frequent classes some, of rare ones each several times,
                               with `augment` in other views. As PyTorch's WeightedRandomSampler,
                               but a class's samples repeat only when all were drawn */
    /* Each training batch is mixed with itself moved on by one sample, as torchvision's v2.MixUp
       (Zhang et al. 2018) and v2.CutMix (Yun et al. 2019) do: with a share drawn from
       Beta(this, this), inputs are a weighted mean, or a box of each comes from the sample before,
       and so are the labels in the loss. Both set: either, by a fair coin for each batch. 0: never.
       For inputs of numbers (cutmix: pictures) and a loss of ft_cross_entropy with a label a
       sample. Mixed inputs do not repeat, so frozen layers are computed in each step. Accuracy in
       training counts each sample's own label. */
    float mixup, cutmix;
    /* Instead of a schedule: returns the factor on the learning rate of update `step` (from 0) of
       `steps`, those of the warm-up not counted. It may be asked twice for a step, and a run that
       continues from a checkpoint must give the same factors. */
    float (*factor)(void *user, int step, int steps);
    void *factor_user;
    /* Averages of what is trained, and of batch norms' statistics, which are measured, kept and
       saved instead of the last weights; a checkpoint has both. */
    float ema;              /* after each update average = ema * average + (1 - ema) * weights, from
                               the first update's on; below 1, such as 0.999; 0: none */
    bool swa;               /* the mean of the weights at the ends of the last quarter of the epochs
                               (Izmailov et al. 2018), with statistics of batch norms renewed on the
                               training samples; with a constant or cyclic rate */
    bool average_start;     /* with `best`: at the end the weights become s times those of the best
                               epoch plus 1 - s times those before the run, the statistics of batch
                               norms too. s is the one of 0, 0.1, ..., 1 that is best on the
                               held-back samples: ft_fit_result.end_share (WiSE-FT, Wortsman et al.
                               2022). Train a new head alone first */
    bool fixed_momentum;    /* with FT_ONE_CYCLE: beta1, or momentum, stays as it is, as with
                               cycle_momentum=False in PyTorch. The default recipe does this */
} ft_fit_options;

typedef struct ft_rate_curve { /* what a search for a learning rate saw */
    const char *stage;      /* of ft_finetune; else "rate" */
    int count;              /* steps that were made */
    const float *rate, *loss, *smoothed; /* [count]; valid during the call */
    bool diverged;          /* so that not all steps were made */
    float learning_rate;    /* that was found; 0: none */
} ft_rate_curve;

typedef struct ft_find_options {
    int steps;              /* default 100 */
    float from, to;         /* the rates of the first and the last step; default 1e-7 (SGD: 1e-6)
                               and 1 (SGD: 10) */
    void (*curve)(void *user, const ft_rate_curve *curve); /* gets the losses, once; or NULL */
    void *curve_user;
} ft_find_options;

typedef struct ft_digest { uint64_t frozen; int tensors; } ft_digest; /* of all frozen bytes */

typedef struct ft_fit_result {
    int epochs;             /* that ran */
    int best_epoch;         /* from 0: the best held-back epoch, whose weights are kept only with
                               `best`; -1: nothing was held back */
    double loss, accuracy;  /* on the training samples in the last epoch; accuracy -1: the loss has
                               no class labels (for ft_mse the loss itself is the metric) */
    double held_back_loss, held_back_accuracy; /* of the weights that were kept; negative: none */
    int held_back_correct, held_back_total;
    ft_digest before, after; /* of frozen bytes; always equal, otherwise ft_fit fails */
    bool stopped;           /* by the progress function, not by `patience`; the weights are as of
                               that step, on a GPU as of the next one */
    ft_metric metric;       /* that the best epoch was chosen by; FT_METRIC_AUTO: nothing was held
                               back */
    double held_back_metric; /* of the weights that were kept; NaN: it is not defined */
    double end_share;       /* of the weights, that of the trained ones (average_start); else 1 */
} ft_fit_result;

typedef struct ft_finetune_options {
    int epochs;             /* of each stage, the trial included; default: chosen */
    int batch_size;         /* default: 16 for fewer than 300 samples (texts: 1,000), else 32; for a
                               new head alone, and in the trial, 32 */
    float learning_rate;    /* of the trial and of the last stage; default: chosen per stage */
    const char *freeze;     /* glob: freeze exactly this and skip the choice of a stage */
    const char *checkpoint;
    int checkpoint_steps;
    ft_augmentation augmentation; /* default: small shifts, never a flip; `shift` -1: none. With a
                               policy there are no shifts unless they are asked for */
    bool (*progress)(void *user, const ft_progress *progress);
    void *progress_user;
    bool balanced;          /* as in ft_fit_options */
    ft_type frozen_type;    /* FT_F16, FT_BF16 or FT_I8: while they are frozen, matrices and kernels
                               are stored so (ft_set_type). A later stage that trains them begins
                               with the rounded numbers. FT_F32 (default): as they are */
    ft_task task;           /* what is learnt; must be one that the data can serve; default: the
                               data's, ft_data_task */
    bool head_only;         /* trains the head, with the frozen layers' outputs as its inputs, and
                               skips the choice of a stage. For classes and numbers, without freeze,
                               augmentation and adapters */
    int most_steps;         /* as in ft_fit_options, of each stage, the trial included */
    /* As in ft_fit_options, for each stage after the trial: the share of the data that no stage
       trains on; then each stage ends with the weights of its best epoch. */
    float hold_back;
    int patience;
    ft_metric metric;
    bool balanced_sampling; /* as in ft_fit_options, */
    float mixup, cutmix;    /* and these too, of pictures, once more than the head is trained */
    const char *loss;       /* as in ft_set_loss_kind, of the new head; default: the network's */
    ft_loss_options loss_options; /* of `loss`, or of the teacher's */
    const char *optimizer;  /* "adamw", "adam", "sgd" (with a momentum of 0.9), "rmsprop",
                               "adagrad", "nadam", "radam", "lion" or "adafactor"; default adamw.
                               Rates that are chosen change as the optimisers' default rates do */
    const char *schedule;   /* of all stages: "constant", "step", "cosine", "one_cycle", "linear",
                               "warm_restarts", "polynomial", "inverse_sqrt" or "plateau"; default:
                               chosen for each */
    int accumulate;         /* as in ft_fit_options; of all stages, and so are ema and swa, but not
                               of the trial */
    float ema;
    bool swa;
    bool find_rate;         /* each stage begins with ft_find_learning_rate */
    void (*curve)(void *user, const ft_rate_curve *curve); /* gets the losses of each search */
    void *curve_user;
    ft_model *teacher;      /* as in ft_set_teacher, instead of `loss`; its copy is removed again,
                               unless the run was stopped */
    /* Of pictures, without freeze: */
    bool class_means;       /* the head is not trained alone, but set: its weights are the classes'
                               mean features, centred and of length 1 (nearest centred class mean,
                               Wang et al. 2019); ft_fit_result.loss and accuracy are those of
                               samples left out one at a time. The default for a new head where
                               fewer than 10 pictures can be held back, unless an option says how
                               to train it */
    bool find_flip;         /* instead of augmentation.flip: pictures are mirrored if in the trial
                               the held-back ones, mirrored, are right as often as they are */
    bool last_block;        /* between head and all layers a stage that trains the last numbered
                               block (of a ResNet-18 layer4.1), as long as the last stage */
    bool average_start;     /* as in ft_fit_options, of the last stage, with hold_back */
} ft_finetune_options;

typedef struct ft_finetune_result {
    char choice[256];       /* one line: what was trained, and why; the epochs and the learning rate
                               of the last stage */
    ft_fit_result fit;      /* of the last stage */
} ft_finetune_result;

typedef struct ft_sweep_row { /* a setting, and what became of it */
    int place;              /* from 1, the best */
    float learning_rate;    /* 0: not among the choices, like NULL in the next four */
    const char *freeze, *activation, *loss, *optimizer; /* those that the options point to */
    int epochs;             /* after which it was dropped, or that the sweep had in all; 0: there
                               was no time for it */
    bool failed;            /* its loss or weights were not finite */
    /* Of the held-back samples after that many epochs, the mean over the seeds, with its 95 %
       interval: the accuracy, of a regression the mean squared error. */
    double value, low, high;
    double best;            /* the winner's after as many epochs */
    double p;               /* of the hypothesis that it is as good as the winner after as many
                               epochs (training/paired), for all comparisons together (Holm) */
    bool differs;           /* p is below 0.05, or it failed */
    double seconds;         /* of all its runs; 0 without ft_desc.clock */
    size_t memory;          /* the most bytes that a run held, besides the model of the sweep */
} ft_sweep_row;

/* The settings of ft_sweep: every combination of the lists' entries, or some of them. A list
   without entries leaves what `finetune` says. */
typedef struct ft_sweep_options {
    const float *learning_rates;
    int learning_rate_count;
    const char *const *freeze; /* globs, as in ft_finetune_options; default: one, "", nothing is
                                  frozen */
    int freeze_count;
    const char *const *activations; /* kinds for ft_swap_activations; "": as they are */
    int activation_count;
    const char *where;      /* glob of the activations that are exchanged; default: all */
    const char *const *losses;  /* as ft_finetune_options.loss; "": the network's own */
    int loss_count;
    const char *const *optimizers;
    int optimizer_count;
    int seeds;              /* runs of each setting, with the seeds ft_desc.seed, that plus 1, and
                               so on, which hold back different samples; default 1 */
    int draws;              /* so many of the settings, drawn by the seed, instead of all */
    int cut;                /* at each cut one in so many settings goes on, the best ones; default
                               3; 1: all are trained to the end */
    double seconds;         /* for all together, with ft_desc.clock: fewer settings go on where the
                               time would not suffice, and when it is over the best so far is the
                               result; 0: no limit */
    /* What all settings have in common. `epochs` are those of the settings that go on to the end;
       default 9, or with `seconds` as many as they suffice for, at most 30. hold_back: default 0.2.
       schedule: default "cosine", which begins with the whole rate, so that early results mean
       something. Must not be set: freeze, checkpoint, checkpoint_steps, head_only, find_rate,
       teacher, and what has a list. progress is called in each run, and can stop the sweep. */
    ft_finetune_options finetune;
    void (*row)(void *user, const ft_sweep_row *row); /* gets each setting at the end, the best
                               first; or NULL */
    void *row_user;
} ft_sweep_options;

typedef struct ft_sweep_result {
    char choice[256];       /* one line: which setting won, and which others may be as good */
    ft_sweep_row winner;
    int settings;
    int equal;              /* those that were trained as long as the winner and do not differ from
                               it beyond noise */
    int undecided;          /* those that were dropped before they differed */
    int epochs;             /* of a setting that goes on to the end */
    int samples;            /* that were held back by any seed */
    bool regression;        /* values are mean squared errors */
    bool timed_out;         /* the time was over before the last cut */
    bool stopped;           /* by progress: there is no result yet */
    double seconds;         /* so far, of the earlier parts of a sweep that continues too */
    ft_fit_result fit;      /* of the winner's run with the first seed */
} ft_sweep_result;

typedef struct ft_recalibrate_options {
    int batch_size;         /* default 32; at most the samples */
    const char *glob;       /* the batch norms by their names; default all */
} ft_recalibrate_options;

typedef struct ft_sample_result {
    int index;              /* of the sample in the data */
    int label;              /* its class */
    int guess;              /* the most probable class */
    float probability;      /* of `guess` */
} ft_sample_result;

typedef struct ft_measure {
    bool known;             /* false: it is not defined for these samples, and all is 0 */
    double value, low, high; /* with its 95 % interval */
} ft_measure;

/* Each metric with its interval. That of the accuracy, of top 5 and of the micro averages, which
   are shares of the samples, is Wilson's (1927). That of the others is the bootstrap's (Efron
   1979): from the 2.5th to the 97.5th percentile of the metric over `resamples` draws of as many
   samples with replacement, widened to contain the value; the draws are always the same. */
typedef struct ft_metrics {
    int samples;            /* with a label, or with targets */
    int resamples;          /* 1000; fewer, but at least 100, where 1000 times samples times classes
                               is above 10^9 */
    ft_measure of[FT_METRIC_COUNT];
} ft_metrics;

typedef struct ft_calibrate_options {
    float hold_back;        /* only the samples that ft_fit holds back with this
                               ft_fit_options.hold_back; 0: all samples of the data */
    int batch_size;         /* default 32 */
} ft_calibrate_options;

typedef struct ft_calibration {
    bool fitted;            /* false: no temperature from 0.01 to 100 is the best; it is 1 now */
    double temperature;
    int samples;
    double loss_before, loss_after;   /* the mean of -log(the label's probability) at 1, and now */
    double error_before, error_after; /* FT_METRIC_CALIBRATION_ERROR, likewise */
} ft_calibration;

typedef struct ft_predict_options {
    int batch_size;         /* default 32. It does not change the predictions */
    bool mirrored;          /* of pictures: the output is the mean of the picture's and that of its
                               mirror image; takes twice the time */
} ft_predict_options;

typedef struct ft_evaluate_options {
    int batch_size;         /* default 32 */
    int *confusion;         /* [true class][predicted class], ft_class_count(m) squared numbers even
                               if the data has fewer classes; set confusion_count too; or NULL */
    /* Called for each sample in the order of the data, on the thread that called ft_evaluate; or
       NULL. */
    void (*sample)(void *user, const ft_sample_result *result);
    void *sample_user;
    size_t confusion_count; /* how many numbers confusion has; FT_SHAPE if it is not
                               ft_class_count(m) squared */
    ft_metrics *metrics;    /* more metrics, of a model with one class for each sample, or with
                               numbers (ft_mse); takes 12 bytes for each sample and class. NULL:
                               they are not computed */
    bool mirrored;          /* of pictures with a class each: the output is the mean of the
                               picture's and that of its mirror image; takes twice the time */
} ft_evaluate_options;

typedef struct ft_evaluation {
    int correct, total, skipped;
    double accuracy, low, high; /* with its 95 % Wilson interval. If the loss has no class labels,
                               all three are -1 and correct is 0 */
    double loss;            /* of a language model: nats per token; perplexity is its exp */
    bool regression;        /* the loss is ft_mse of the output and an input: */
    double mse, r2;         /* mean squared error; coefficient of determination, 1 - mse / variance
                               of the targets, averaged over the outputs (scikit-learn's r2_score).
                               For constant targets r2 is 1 if mse is 0, else 0 */
    bool entities;          /* the classes are O, B-TYPE and I-TYPE, of words: */
    int entities_correct, entities_predicted, entities_total; /* runs of words; one is correct if
                               its type, its first and its last word are */
    double precision, recall, f1; /* correct / predicted, correct / total, and their harmonic mean,
                               as seqeval's by default (micro average); 0 where there are none. A
                               word that was cut off (ft_max_length), or that the tokeniser drops,
                               counts as predicted O; it does not count in `accuracy` */
    bool similarity;        /* the data are pairs of texts with numbers (FT_TASK_EMBEDDINGS): */
    double pearson, spearman; /* correlations of these numbers and the cosines of the texts' vectors
                               (`loss` is 0); of a regression of one number, of output and target.
                               spearman is that of their ranks, where equal numbers have the mean of
                               theirs. 0 if all numbers of one list are equal */
} ft_evaluation;

typedef struct ft_prediction { int class_index; float probability; } ft_prediction;

typedef struct ft_embed_options {
    int batch_size;         /* default 32. It does not change the vectors */
} ft_embed_options;

typedef struct ft_entity {
    size_t start, bytes;    /* in the text: from its first word's start to its last word's end */
    const char *type;       /* the name of its classes without B- and I-; valid as long as that */
    float probability;      /* the mean of its words' */
} ft_entity;

typedef struct ft_generated { /* one token of ft_generate */
    int prompt;             /* the index of the prompt that it continues */
    int32_t id;             /* -1: none, only the rest of the text, at the end */
    const char *text;       /* whole characters, UTF-8, with a 0 behind; may be empty: a character's
                               other bytes, or the rest of a stop string, may follow */
    size_t bytes;
} ft_generated;

typedef struct ft_generate_options {
    const char *prompt;     /* the text to continue; default: a new line, or the start token */
    int length;             /* maximum number of tokens; default 200 */
    float temperature;      /* divides the logits; default 1 */
    bool greedy;            /* always the most probable token */
    int top_k;              /* choose among this many of the most probable; 0: all */
    float top_p;            /* choose among the most probable that make up this share; 0: all */
    uint64_t seed;
    bool (*piece)(void *user, const char *text, size_t bytes); /* gets each piece of text, in whole
                               characters, as it is generated; false stops */
    void *piece_user;
    const char *const *prompts; /* several texts to continue at once, instead of `prompt`. Prompt i
                               is continued as it would be alone with the seed seed + i */
    int prompt_count;
    const char *const *stops; /* a text ends before the first of these strings in it, which is not
                               passed on */
    int stop_count;
    /* Gets each token, of any prompt, as it is generated; false ends that text. Instead of piece or
       beside it. */
    bool (*token)(void *user, const ft_generated *token);
    void *token_user;
    bool no_cache;          /* transformers: runs the whole text again for each token, instead of
                               keeping keys and values; slow, and takes no memory between tokens */
    ft_chat_template chat;  /* a prompt is a user's message, which the assistant answers; default:
                               it is text that goes on */
} ft_generate_options;

typedef struct ft_plan_bytes { /* the memory that a run will need */
    size_t parameters, gradients, optimizer, activations, workspace, total;
    size_t other;                 /* in total: the graph, names, lists and everything else */
    size_t device;                /* in total: on ft_desc.device, and not allocated yet */
    size_t mapped;                /* not in total, nor in memory_budget: weights that are used in a
                                     mapped file */
} ft_plan_bytes;
