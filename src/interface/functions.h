#pragma once
#include "interface/types.h"

/* =============================================================================================
   [SECTION] interface/functions: Functions
   In the order in which a program calls them.
   ============================================================================================= */
#ifndef FINETUNE_API
#define FINETUNE_API extern
#endif

/* ---- A model ---- */

/* Makes an empty model that owns all that is made with it. NULL only when there is no memory; what
   else is wrong with `desc` is the model's first error. */
FINETUNE_API ft_model *ft_create(ft_desc desc);
FINETUNE_API void ft_destroy(ft_model *m); /* NULL is fine */

/* The first error since the start (or since ft_clear_error), FT_OK when there was none. After an
   error every call that works on the model does nothing but return the same status. ft_error(NULL)
   is FT_MEMORY: what ft_create's NULL means. */
FINETUNE_API ft_status ft_error(const ft_model *m);
FINETUNE_API const char *ft_error_text(const ft_model *m); /* "" when there was none */
/* Forgets the error. An ft_fit that ended with one has returned to the weights of its last good
   epoch where they were not finite, so that prediction works again. A device that failed is given
   up, and the processor goes on: outside of ft_fit with the weights as they were when they were
   last loaded, read or saved. */
FINETUNE_API void ft_clear_error(ft_model *m);
FINETUNE_API const char *ft_status_name(ft_status status);

/* Lists the machine's OpenCL devices, whatever ft_desc.device is: writes up to `most` of them and
   returns how many there are. 0, with the reason in the log, where there are none. */
FINETUNE_API int ft_devices(ft_model *m, ft_device_info *devices, int most);

/* The comparisons with the processor that this model has made on its device, each when an operator
   was first met, and then the operators that have no kernels: writes up to `most`, returns how many
   there are. 0 where the model runs on the processor. */
FINETUNE_API int ft_device_checks(const ft_model *m, ft_device_check *checks, int most);

/* ---- A network from a file, or by name ---- */

/* Loads a model file, or recognises a published network by the names and shapes of its weights,
   builds it and loads them. .safetensors, and PyTorch's .pt/.pth. The model must be empty, and is
   empty again after an error: FT_IO, FT_FORMAT, or FT_MISMATCH, which lists what does not fit. */
FINETUNE_API ft_status ft_load(ft_model *m, const char *path, ft_load_options options);

/* Builds "resnet18", "resnet34", "resnet50" (torchvision's names), "resnet20", "resnet32",
   "resnet44", "resnet56" (for CIFAR, option A shortcuts; all of He et al. 2016), "mobilenet_v1"
   (Howard et al. 2017) or "keras_cnn" with random weights, over the inputs "input" [N, channels,
   size, size] and "labels" [N], with their loss. Returns the logits, [N, classes]; {0} with an
   error. Over text: "lstm_classifier" and
   "gru_classifier" (inputs "tokens" [N, L] and "lengths" [N], logits [N, classes]), and the
   language models "char_rnn" and "lstm_lm" (logits [N, L, words]; their state is carried from run
   to run until ft_reset_state). */
FINETUNE_API ft_node ft_network(ft_model *m, const char *name, ft_network_options options);

/* Turns a language model (recurrent layers, and a linear layer over each step) into a classifier of
   texts as ULMFiT does: the layers are kept, without carried states; the last, largest and mean of
   their outputs over the real steps, side by side, go into a new head, "fc". Inputs are "tokens",
   "lengths" and "labels". Howard and Ruder 2018. */
FINETUNE_API ft_status ft_language_model_to_classifier(
    ft_model *m, int classes, ft_language_model_to_classifier_options options);

/* Reads weights into parameters of the same names. What does not match is listed in the error,
   FT_MISMATCH, unless the options allow it; shapes must be equal. */
FINETUNE_API ft_status ft_load_weights(ft_model *m, const char *path, ft_weights_options options);

/* Writes weights, graph, class names, preprocessing and tokeniser, all that prediction needs, and
   what is frozen, which ft_load freezes again. It is written beside `path` and renamed, so that no
   half a file is left. FT_IO where that fails. What the file that was loaded had besides in its
   __metadata__ (a source, a licence) is written again. FT_UNSUPPORTED where the path ends as
   another format's files do (ft_other_format). */
FINETUNE_API ft_status ft_save(ft_model *m, const char *path, ft_save_options options);
/* Whose format a file would be taken for by the end of its name ("PyTorch" of .pt, "ONNX" of
   .onnx), though ft_save writes safetensors only; NULL: nobody's, and ft_save takes the name. To be
   asked before hours of training. */
FINETUNE_API const char *ft_other_format(const char *path);

/* ---- Tensors of a file, whatever they are for ----
   NULL with an error; ft_file_close ends it, and all that was asked of it is gone then. */
FINETUNE_API ft_file *ft_file_open(ft_model *m, const char *path, ft_weights_options options);
FINETUNE_API void ft_file_close(ft_file *file);
FINETUNE_API int ft_file_count(const ft_file *file);
FINETUNE_API ft_tensor_info ft_file_tensor(const ft_file *file, int index);
FINETUNE_API int ft_file_find(const ft_file *file, const char *name); /* index; -1: none */
/* The text of __metadata__'s entry `key`; NULL: none. */
FINETUNE_API const char *ft_file_metadata(const ft_file *file, const char *key);
/* Reads a tensor as float32 (any type but FT_OTHER, which is FT_UNSUPPORTED) or as it is stored,
   row-major; `count` and `bytes` must be the tensor's own, else FT_SHAPE. */
FINETUNE_API ft_status ft_file_read_f32(ft_file *file, int index, float *to, size_t count);
FINETUNE_API ft_status ft_file_read(ft_file *file, int index, void *to, size_t bytes);

/* ---- Building: each returns the node of its result, {0} with an error ----
   `name` is the layer's name, which no other node has; NULL: one is made up, but for layers with
   parameters, which are called "<name>.weight" and so on. N is the batch. Shapes that do not fit
   are FT_SHAPE, options that make no sense FT_INVALID, and the text names the layer. */

/* What is fed: [N, size...] of float32, or of int32 for labels and token ids. */
FINETUNE_API ft_node ft_input(ft_model *m, const char *name, ft_input_options options);
/* A tensor without a batch that is trained, or kept as a buffer; drawn from the model's seed and
   its name, or loaded by it. */
FINETUNE_API ft_node ft_parameter(ft_model *m, const char *name, ft_parameter_options options);

/* x [N, C, H, W] -> [N, out_channels, H', W'], H' = (H + padding - dilation*(kernel-1) - 1)/stride
   + 1, rounded down, padding being that of both sides; W' likewise. "<name>.weight" is
   [out_channels, C/groups, kernel, kernel], ".bias" [out_channels]. A cross-correlation, as
   everybody's. */
FINETUNE_API ft_node ft_conv2d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv2d_options options);
/* x [N, C, L] -> [N, out_channels, L'], as conv2d does with a height of 1; weight
   [out_channels, C/groups, kernel]. L may be FT_LENGTH where L' is the same: stride 1, and padding
   that adds up to dilation * (kernel - 1). Steps behind a sample's own length count as they are. */
FINETUNE_API ft_node ft_conv1d(ft_model *m, const char *name, ft_node x, int out_channels,
                               ft_conv1d_options options);
/* x [..., in] -> [..., out_features]: y = x weight^T + bias; "<name>.weight" is [out_features, in],
   ".bias" [out_features]. */
FINETUNE_API ft_node ft_linear(ft_model *m, const char *name, ft_node x, int out_features,
                               ft_linear_options options);
/* x [N, C] or [N, C, H, W]: y = (x - mean) / sqrt(var + eps) * weight + bias per channel; the
   batch's mean and (biased) variance in training, the running ones in evaluation or when frozen.
   "<name>.weight" and ".bias" are trained, ".running_mean" and ".running_var" buffers, all [C].
   Ioffe and Szegedy 2015. */
FINETUNE_API ft_node ft_batch_norm(ft_model *m, const char *name, ft_node x,
                                   ft_batch_norm_options options);
/* x [..., D], at least 2 dimensions: y = (x - mean) / sqrt(var + eps) * weight + bias over each row
   of D; "<name>.weight" and ".bias" are [D]. Ba, Kiros and Hinton 2016. */
FINETUNE_API ft_node ft_layer_norm(ft_model *m, const char *name, ft_node x,
                                   ft_layer_norm_options options);
/* x [N, C, H, W] -> [N, C, H', W'], sizes as conv2d's: the largest, or the mean, of each window.
   Padding is never the largest. */
FINETUNE_API ft_node ft_max_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
FINETUNE_API ft_node ft_avg_pool2d(ft_model *m, const char *name, ft_node x,
                                   ft_pool2d_options options);
/* x [N, C, H, W] -> [N, C, 1, 1]. */
FINETUNE_API ft_node ft_global_avg_pool(ft_model *m, const char *name, ft_node x);
FINETUNE_API ft_node ft_global_max_pool(ft_model *m, const char *name, ft_node x);
FINETUNE_API ft_node ft_flatten(ft_model *m, const char *name, ft_node x); /* [N, rest] */
/* `size` of one sample, without the batch; one of them may be -1: what is left. */
FINETUNE_API ft_node ft_reshape(ft_model *m, const char *name, ft_node x, int rank,
                                const int *size);
/* a + b, a * b, element by element; the result has a's shape. A size of 1 (or a missing leading
   one) in b is repeated. */
FINETUNE_API ft_node ft_add(ft_model *m, const char *name, ft_node a, ft_node b);
FINETUNE_API ft_node ft_mul(ft_model *m, const char *name, ft_node a, ft_node b);
/* One behind the other along `axis` >= 1; the other sizes are the same in all. */
FINETUNE_API ft_node ft_concat(ft_model *m, const char *name, int count, const ft_node *x,
                               int axis);
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
   be frozen. With options.final_states PyTorch's h_n and c_n are there too, as "<name>.h_n" and
   "<name>.c_n" [N, layers * directions * hidden]: behind each sample's last real step, and of the
   reverse direction behind its first (a sample without a real step has zeros there). They can be
   the first states of another layer, or be trained on. A carried state is "<name>.hidden_l0" [N,
   directions * hidden] and "<name>.cell_l0". Hochreiter and Schmidhuber 1997. */
FINETUNE_API ft_node ft_lstm(ft_model *m, const char *name, ft_node x, int hidden,
                             ft_recurrent_options options);
/* Likewise with gates r, z, n (Cho et al. 2014, PyTorch's form of it), and with none: tanh. */
FINETUNE_API ft_node ft_gru(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);
FINETUNE_API ft_node ft_rnn(ft_model *m, const char *name, ft_node x, int hidden,
                            ft_recurrent_options options);
/* x [N, L, C] -> [N, C]: the last, the mean, or the largest of the real steps, or [N, 3 C]: all
   three, of the nodes "<name>_last", "<name>_max" and "<name>_mean" (Howard and Ruder 2018).
   lengths I32 [N], or {0}: all steps are real. */
FINETUNE_API ft_node ft_step_pool(ft_model *m, const char *name, ft_node x, ft_node lengths,
                                  ft_step_pool_options options);
/* Zero with the probability p, else x / (1 - p); in evaluation, or frozen, x itself (Srivastava et
   al. 2014). What is zero is a function of the seed, the step and the place. Over a weight
   it is weight drop or, locked, embedding dropout (Merity et al. 2017): give its node as the
   layer's weight. */
FINETUNE_API ft_node ft_dropout(ft_model *m, const char *name, ft_node x,
                                ft_dropout_options options);
/* Of each element, y has x's shape; `kind` is one of
     "sigmoid"     1 / (1 + exp(-x))             "tanh"        (exp(2x) - 1) / (exp(2x) + 1)
     "relu"        max(x, 0): Nair and Hinton 2010
     "relu6"       min(max(x, 0), 6): Krizhevsky 2010
     "leaky_relu"  x, or slope * x below 0: Maas et al. 2013
     "elu"         x, or alpha * (exp(x) - 1) below 0: Clevert et al. 2016
     "softplus"    log(1 + exp(x)): Dugas et al. 2001
     "softsign"    x / (1 + |x|): Bergstra et al. 2009
     "gelu"        x * Phi(x), Phi the normal distribution's: Hendrycks and Gimpel 2016
     "silu"        x * sigmoid(x): Elfwing et al. 2017
     "softmax"     exp(x) / sum of exp(x) over an axis: Bridle 1990; "log_softmax": its logarithm */
FINETUNE_API ft_node ft_activation(ft_model *m, const char *kind, const char *name, ft_node x,
                                   ft_activation_options options);
/* Losses: one number, shape [1], as PyTorch's with reduction="mean"; logits, not probabilities, so
   that large ones are exact. A batch with nothing to take the mean of gives NaN.
   Cross-entropy, -log(softmax(logits)[label]): logits [N, classes] and labels [N], or [N, L,
   classes] and [N, L]; labels of -1 (padding) and of -100 (PyTorch's ignore_index) are left out,
   and the mean is over the others. Any other label that is no class makes the loss NaN, and the
   run FT_NOT_FINITE. */
FINETUNE_API ft_node ft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                      ft_node labels /* I32 */, ft_loss_options options);
/* The same against probabilities, -sum(target * log(softmax(logits))): the mean over N. */
FINETUNE_API ft_node ft_soft_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                           ft_node targets /* F32 [N, classes] */);
/* -(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))), t in [0, 1]: the mean over all elements. */
FINETUNE_API ft_node ft_binary_cross_entropy(ft_model *m, const char *name, ft_node logits,
                                             ft_node targets /* F32, as logits */);
/* (x - target)^2: the mean over all elements. */
FINETUNE_API ft_node ft_mse(ft_model *m, const char *name, ft_node x, ft_node target);

/* Which nodes matter: the output that is predicted and saved, and the loss that is trained. A
   network made by name or from a file has both (cross-entropy over the node "labels"). An input or
   a weight is neither: FT_INVALID. */
FINETUNE_API void ft_set_output(ft_model *m, ft_node logits);
FINETUNE_API void ft_set_loss(ft_model *m, ft_node loss);
FINETUNE_API ft_node ft_output(const ft_model *m);
FINETUNE_API ft_node ft_loss(const ft_model *m);
FINETUNE_API void ft_set_preprocessing(ft_model *m, ft_preprocessing preprocessing);
FINETUNE_API ft_preprocessing ft_get_preprocessing(const ft_model *m);
/* What the classes are called, in the order of the labels: as many as the output has, and none
   forgets them; the names are copied, and saved with the model. One that is NULL becomes the
   class's number. */
FINETUNE_API void ft_set_class_names(ft_model *m, int count, const char *const *names);
FINETUNE_API const char *ft_class_name(const ft_model *m, int index); /* NULL: none */
FINETUNE_API int ft_class_count(const ft_model *m); /* of the output [N, classes]; else 0 */

/* ---- Looking at it ---- */
/* {0}: none of that name. Where that is used as a node, the error says which name was not found. */
FINETUNE_API ft_node ft_find(const ft_model *m, const char *name);
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
/* Copies a parameter or buffer, or of the last run an input, the output or the loss, out or in:
   `count` numbers, row-major, as many as the node has (of ints: their 4 bytes each); an input has
   as many as were fed. After ft_feed there is no last run. */
FINETUNE_API ft_status ft_get(ft_model *m, ft_node node, float *to, size_t count);
FINETUNE_API ft_status ft_set(ft_model *m, ft_node node, const float *from, size_t count);
/* The sum of what ft_backward added since the last ft_update; of trained parameters only. */
FINETUNE_API ft_status ft_get_gradient(ft_model *m, ft_node node, float *to, size_t count);
/* What the model will hold at the most while it trains by hand (ft_forward, ft_backward, ft_update)
   or predicts (ft_run) with batches of this size: a memory_budget of `total` bytes is enough,
   without an optimiser set for AdamW's too. Where the budget that was stated is too small, the
   error FT_MEMORY says so, and `total` is the least that would do. Data sources, the batches that
   ft_fit and ft_evaluate load ahead, the weights that ft_fit keeps aside, and a picture that is
   being decoded come on top: where they find no room, the error says how much is needed. */
FINETUNE_API ft_plan_bytes ft_plan(ft_model *m, int batch_size, bool training);

/* ---- Adjusting it ----
   Globs match whole names: * ? [a-z] [!a-z], and several parted by commas. "bn1" matches no
   parameter, "bn1*" the four of that layer. Each returns how many matched; 0 is no error, but a
   pattern that matches nothing is named in the log, with the nearest name that there is. */

/* Parameters, buffers and dropouts. Frozen ones lose gradient and optimiser state. */
FINETUNE_API int ft_freeze(ft_model *m, const char *glob);
FINETUNE_API int ft_unfreeze(ft_model *m, const char *glob);
FINETUNE_API ft_digest ft_frozen_digest(ft_model *m);
/* Gives the last linear layer before the output `classes` outputs and fresh, unfrozen weights,
   under its name; the names of the old classes are dropped. FT_INVALID where there is no such
   layer. */
FINETUNE_API ft_status ft_replace_head(ft_model *m, int classes);
/* Turns the activations whose names match into `kind`. */
FINETUNE_API int ft_swap_activations(ft_model *m, const char *glob, const char *kind,
                                     ft_activation_options options);
/* Of the parameters that match: a factor on the learning rate, and a weight decay instead of the
   optimiser's; negative: the optimiser's again. */
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
/* How many tokens of a text ft_texts keeps and ft_predict_text reads, at least 1; what is longer is
   cut, and the log says so. Saved with the model. 512 at first. */
FINETUNE_API ft_status ft_set_max_length(ft_model *m, int tokens);
FINETUNE_API int ft_max_length(const ft_model *m);

/* ---- Data; owned by the model, freed with it or by ft_data_free; NULL with an error ---- */

/* Samples by functions of the caller's, which must live as long. */
FINETUNE_API ft_data *ft_data_source(ft_model *m, ft_source source);
/* PATH/CLASS/anything.jpg|png|bmp|ppm|pgm|gif; classes in the order of their names. */
FINETUNE_API ft_data *ft_image_folder(ft_model *m, const char *path,
                                      ft_image_folder_options options);
/* `count` samples in the caller's memory, which must live as long: values are
   [count, the input's shape], labels [count], from 0 on; NULL: none. */
FINETUNE_API ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                                ft_array_options options);
/* Labelled texts: a table (.tsv, .csv as RFC 4180 has it, .jsonl: an object a line), or a folder
   PATH/CLASS/files, one text each. Classes are in the order of their names. Fills the inputs
   "tokens" I32 [FT_LENGTH], "lengths" I32 and "labels" I32. Batches hold texts of like length.
   Where "labels" is [FT_LENGTH], a language model is to learn each text by itself: the label of a
   word is the word after it, of the last one the end piece; without one, or with .shuffle, it is
   -1. A model that is to learn which words stand together, not their order, takes .shuffle and
   .subsample. */
FINETUNE_API ft_data *ft_texts(ft_model *m, const char *path, ft_text_options options);
/* A text as parallel streams for a language model; a recurrent network's state is carried from a
   batch to the next. Fills "tokens" and "labels" I32 [FT_LENGTH], and "lengths". The batch size of
   ft_fit and ft_evaluate is the number of streams. */
FINETUNE_API ft_data *ft_text_streams(ft_model *m, const char *path, ft_stream_options options);
FINETUNE_API void ft_data_free(ft_data *data);
FINETUNE_API int ft_data_count(const ft_data *data);
FINETUNE_API int ft_data_classes(const ft_data *data);
FINETUNE_API const char *ft_data_class_name(const ft_data *data, int c); /* NULL: none */
FINETUNE_API const char *ft_data_name(const ft_data *data, int index);   /* "": none */
FINETUNE_API int ft_data_label(const ft_data *data, int index);          /* -1: none */
/* Samples that could not be read so far, each counted, and named in the log, once: a folder's when
   it is opened, a source's when get() says so. */
FINETUNE_API int ft_data_skipped(const ft_data *data);

/* ---- Training ---- */

/* The default recipe: a new head for the data's classes, trained on frozen features; deeper layers
   too where that is not enough by a held-back part of the data (where nothing can be held back,
   the head alone). At least 2 classes. A model that has the data's classes keeps its head. What
   ft_freeze did is replaced by its own choice, or by options.freeze. */
FINETUNE_API ft_finetune_result ft_finetune(ft_model *m, ft_data *data,
                                            ft_finetune_options options);
/* Trains what is not frozen. After each epoch the weights and a batch's loss are looked at:
   FT_NOT_FINITE, with the weights of the last good epoch, where they ran away. */
FINETUNE_API ft_fit_result ft_fit(ft_model *m, ft_data *data, ft_fit_options options);
/* On all samples: accuracy with Wilson's interval (1927), of a regression mean squared error and
   R2 instead, and the mean loss; changes no weight. */
FINETUNE_API ft_evaluation ft_evaluate(ft_model *m, ft_data *data, ft_evaluate_options options);

/* The same by hand:
       ft_set_optimizer(m, options);                  (optional: else AdamW with its defaults)
       for (...) { ft_feed(m, input, x, batch); ft_feed(m, labels, y, batch);
                   loss = ft_forward(m, true); ft_backward(m); ft_update(m, learning_rate); }   */
FINETUNE_API ft_status ft_set_optimizer(ft_model *m, ft_optimizer_options options);
/* Copies values [batch, the input's shape] in: float, or int32_t where the input is FT_I32. All
   inputs of a run need the same batch: FT_SHAPE from ft_forward otherwise. They stay until they are
   fed again. */
FINETUNE_API ft_status ft_feed(ft_model *m, ft_node input, const void *values, int batch);
/* How many steps FT_LENGTH stands for from now on: set it before ft_feed, ft_run, ft_plan, ft_fit.
   1 at first. A run may be shorter than the longest one so far: it costs accordingly. */
FINETUNE_API ft_status ft_set_length(ft_model *m, int length);
FINETUNE_API int ft_length(const ft_model *m);
/* Runs the network on what was fed and returns its loss; 0 with an error, and where no loss is set.
   With training false the labels, or whatever only the loss depends on, may be missing: the output
   is computed all the same, for ft_get, and 0 is returned, where they were never fed or are those
   of an earlier run of another batch size. FT_NOT_FINITE when the loss or, with training false, the
   output or a weight is NaN or infinite. */
FINETUNE_API float ft_forward(ft_model *m, bool training);
/* After ft_forward(m, true), once: adds to the gradients, so that several batches can make one
   update. */
FINETUNE_API ft_status ft_backward(ft_model *m);
/* One step of the optimiser at this rate, which a schedule may change from step to step; then the
   gradients are zero. Gradients that are not finite are FT_NOT_FINITE: dropped, they change
   nothing. */
FINETUNE_API ft_status ft_update(ft_model *m, float learning_rate);
/* Sets the carried states whose names match to zero: a new sequence begins. Returns how many. */
FINETUNE_API int ft_reset_state(ft_model *m, const char *glob);
/* The factor on the learning rate at a step (from 0) of a schedule of so many steps, the first
   `warmup` of which rise linearly; FT_STEP multiplies by gamma after each step_size steps. */
FINETUNE_API float ft_schedule_factor(ft_schedule schedule, int step, int steps, int step_size,
                                      float gamma, int warmup);

/* ---- Prediction ---- */

/* One picture, as encoded bytes or as a path; the `count` most probable classes, best first.
   Returns how many were written, 0 on error. FT_NOT_FINITE where a weight or the output is NaN or
   infinite, here and in the functions below. */
FINETUNE_API int ft_predict_file(ft_model *m, const char *path, ft_prediction *best, int count);
FINETUNE_API int ft_predict_memory(ft_model *m, const void *bytes, size_t count_of_bytes,
                                   ft_prediction *best, int count);
/* `pixels`: rows of 8-bit grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4), without gaps.
   They become the network's channels: grey is repeated, colour made grey by ITU-R 601's luma (as
   Pillow's convert("L")), alpha dropped; then resized as ft_preprocessing says. */
FINETUNE_API int ft_predict_pixels(ft_model *m, const uint8_t *pixels, int width, int height,
                                   int channels, ft_prediction *best, int count);
/* A text of so many bytes of UTF-8, by the model's tokeniser; as ft_predict_file. */
FINETUNE_API int ft_predict_text(ft_model *m, const char *text, size_t bytes,
                                 ft_prediction *best, int count);
/* Goes on with a text, token by token, each drawn from what the language model says of the next;
   the state of recurrent layers begins at zero and is left as it was at the end. The same options
   give the same text. Returns how many tokens were made, 0 on error. */
FINETUNE_API int ft_generate(ft_model *m, ft_generate_options options);
/* Runs a network whose output depends on one input: values [batch, the input's shape], float, or
   int32_t where the input is FT_I32 -> output [batch, the output's shape]. `count` is how many
   numbers `output` has: batch times those of a sample, else FT_SHAPE. An input "lengths" is filled
   with ft_length(m), for every sample is whole; ft_run_lengths tells how many steps of each are
   real, 0 to ft_length(m). Where the output depends on further inputs FT_INVALID: feed all of them
   with ft_feed, call ft_forward(m, false), and read the output with ft_get. FT_NOT_FINITE where a
   weight or the output is NaN or infinite (-infinity in the output is let through). */
FINETUNE_API ft_status ft_run(ft_model *m, const void *values, int batch, float *output,
                              size_t count);
FINETUNE_API ft_status ft_run_lengths(ft_model *m, const void *values, const int *lengths,
                                      int batch, float *output, size_t count);
