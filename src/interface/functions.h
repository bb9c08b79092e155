#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "interface/operators.h"
#include "interface/training_types.h"

/* =============================================================================================
   [SECTION] interface/functions: Functions
   In the order in which a program calls them.
   ============================================================================================= */
/* ---- A model ---- */

/* Creates an empty model, which owns everything made with it. Returns NULL only if there is no
   memory; any other fault of `desc` is the model's first error. */
FINETUNE_API ft_model *ft_create(ft_desc desc);
FINETUNE_API void ft_destroy(ft_model *m);

/* Returns the first error since the start (or since ft_clear_error), FT_OK if there was none. After
   an error every call on the model does nothing but return the same status. ft_error(NULL) is
   FT_MEMORY, since ft_create returns NULL without memory. */
FINETUNE_API ft_status ft_error(const ft_model *m);
FINETUNE_API const char *ft_error_text(const ft_model *m); /* "" if there was no error */
/* Clears the error. If an ft_fit ended with weights that are not finite, those of its last good
   epoch are back, and prediction works again. After a device failure the model continues on the
   CPU, in ft_fit with the weights of the last good epoch, elsewhere with the weights as they were
   last loaded, read or saved. */
FINETUNE_API void ft_clear_error(ft_model *m);
FINETUNE_API const char *ft_status_name(ft_status status);

/* Lists the machine's OpenCL devices, whatever ft_desc.device is: writes up to `most` of them and
   returns how many there are. If there are none, returns 0 and logs the reason. */
FINETUNE_API int ft_devices(ft_model *m, ft_device_info *devices, int most);

/* Compares every operator that has kernels with the CPU, each on a sample of its own, and times it
   if there is ft_desc.clock: ft_device_checks then lists them. A few seconds on a GPU. Does nothing
   if the model runs on the CPU. */
FINETUNE_API ft_status ft_check_device(ft_model *m);

/* Lists how this model's operators compared with the CPU on its device (each is compared when it is
   first used), then the operators without kernels. Writes up to `most` and returns how many there
   are; 0 if the model runs on the CPU. */
FINETUNE_API int ft_device_checks(const ft_model *m, ft_device_check *checks, int most);

/* ---- A network from a file, or by name ---- */

/* Loads a model file, or the weights of a published network, which it recognises by their names and
   shapes and builds: .safetensors, or PyTorch's .pt/.pth of any version, holding a state_dict or
   a checkpoint that has one; or the .index.json of weights in several files. A prefix that all
   names share ("module.") is skipped if the rest fits; the log says so. The model must be empty,
   and is empty again after an error: FT_IO, FT_FORMAT, FT_MISMATCH, which lists what does not
   fit, or FT_INVALID if a checkpoint holds weights under several names: choose with
   weights.state_dict. Or a folder of Hugging Face's, with a transformer of ft_network's: its
   config.json says what the shapes of weights do not, its tokeniser becomes the model's, and its
   preprocessor_config.json says how pictures are resized, cut and normalised. A head that the
   weights lack is new, of ft_load_options.network.classes or as many as such networks usually
   have, and must be trained; the log says so. A field of these files that changes the result and
   is not implemented is FT_UNSUPPORTED. Vision transformers are also recognised in timm's and
   torchvision's files. For pictures of another size (network.image_size) their table of
   positions is resized as it is loaded, as the file's library does it (bicubic), and saved so.
   */
FINETUNE_API ft_status ft_load(ft_model *m, const char *path, ft_load_options options);

/* Builds a network with random weights and its loss; returns the logits, or {0} with an error.
   Of pictures, with inputs "input" [N, channels, size, size] and "labels" [N], logits [N, classes]:
     "resnet18", "resnet34", "resnet50"  as in torchvision (He et al. 2016)
     "resnet20", "resnet32", "resnet44", "resnet56"  for CIFAR, option A shortcuts (the same paper)
     "mobilenet_v1"  Howard et al. 2017
     "keras_cnn"
     "vit", "deit", "dinov2"  transformers (Dosovitskiy et al. 2021, Touvron et al. 2021, Oquab et
                            al. 2024); the head reads the class token. Names are those of Hugging
                            Face's files after ft_network_options.prefix, unless .spelling says
                            others: "encoder.layer.0.attention.attention.query" and so on
   Of text, with the input "tokens" [N, L]:
     "lstm_classifier", "gru_classifier"  with the input "lengths" [N]; logits [N, classes]
     "bag_of_words"         logistic regression on the TF-IDF of the words, whatever their order,
                            with the input "lengths" [N]; logits [N, classes]. ft_finetune fits it
                            at once; ft_network_options.words and .classes are all that it takes
     "bert", "roberta", "distilbert"  with the input "lengths" [N]; logits [N, classes]. Names are
                            Hugging Face's: layers are "encoder.layer.0.attention.self.query" and so
                            on, in distilbert "transformer.layer.0.attention.q_lin", after
                            ft_network_options.prefix
     "gpt2", "llama", "qwen2", "qwen3"  with Hugging Face's names (Radford et al. 2019, Touvron et
                            al. 2023, Yang et al. 2024 and 2025), and "meta_llama" with Meta's, as
                            llama2.c has them: language models, logits [N, L, words]; with
                            ft_network_options.classes instead a linear layer "score" on the last
                            real step, with the input "lengths" [N]; logits [N, classes]
     "char_rnn", "lstm_lm"  language models, logits [N, L, words]; their state is carried from run
                            to run until ft_reset_state */
FINETUNE_API ft_node ft_network(ft_model *m, const char *name, ft_network_options options);

/* Builds the network that a file describes: JSON as in docs/networks.md, which may be written by
   hand, or a model file of ft_save, of which only the network is used. The weights are drawn, as
   ft_network does; ft_load_weights then loads them by name. To build and load in one step give the
   description to ft_load, as ft_load_options.architecture. The model must be empty, and is empty
   again after an error: FT_IO, or FT_FORMAT, FT_INVALID or FT_SHAPE, which name the node and what
   is wrong with it. */
FINETUNE_API ft_status ft_load_graph(ft_model *m, const char *path, ft_graph_options options);

/* Returns the description of the network, as ft_save writes it into the file, and the values of
   constants: JSON that ft_load_graph reads, with one line for each node. It is valid until the next
   call, and belongs to the model. NULL with an error: FT_INVALID if the model is empty,
   FT_UNSUPPORTED if it has an operator of ft_custom. */
FINETUNE_API const char *ft_graph_text(ft_model *m);

/* Makes a text classifier of a language model with a linear layer over each step. Of recurrent
   layers as ULMFiT does (Howard and Ruder 2018): they stay, without carried states; the last,
   maximum and mean of their outputs over the real steps, side by side, go into a new head, "fc". Of
   a transformer with causal attention as Hugging Face's ...ForSequenceClassification: the last real
   step goes into "score", which has no bias. Inputs are "tokens", "lengths" and "labels". */
FINETUNE_API ft_status ft_language_model_to_classifier(
    ft_model *m, int classes, ft_language_model_to_classifier_options options);

/* Reads weights into parameters of the same names and shapes. FT_MISMATCH lists all that do not
   match, unless the options allow it. Checkpoints and prefixes are read as in ft_load. A second
   name for the data of a loaded weight (tied weights) is no mismatch. */
FINETUNE_API ft_status ft_load_weights(ft_model *m, const char *path, ft_weights_options options);

/* Writes all that prediction needs (weights, graph, class names, preprocessing, tokeniser) and what
   is frozen, which ft_load freezes again. Other entries of the loaded file's __metadata__ (a
   source, a licence) are kept. The file is written beside `path` under a name of its own, synced
   and renamed, so that no half file is left, even if another process saves there. A path that ends
   in .npz is written as NumPy's archive of arrays, with the metadata as the array "__metadata__";
   in .weights.h5, .h5 (or .hdf5) or .keras as Keras' file, by ft_desc.hdf5; in .onnx as below; any
   other as safetensors. FT_IO if writing fails, or if something other than a regular file is at
   `path`. FT_UNSUPPORTED if the path ends like another format's files (ft_other_format), if the
   format has no such type (NumPy: BF16), or if ONNX cannot hold a node: all of them are listed, by
   name and operator.
   Keras' files are of a network that was opened from one with its config, and changed at most in
   the size of its head, else FT_UNSUPPORTED; Keras loads them, by load_model or, of .weights.h5, by
   load_weights into the same model. They hold float32, whatever type the weights have in memory,
   and the metadata as an attribute that Keras passes over.
   An ONNX file (opset 17) is for other runtimes: it computes in evaluation what ft_output is,
   without the loss. Inputs and weights keep their names, as F16, BF16 or I8 they are widened in the
   graph; integers are int64; batch and length are open, "N" and "L". Token ids must not be -1, and
   lengths not above the length. A carried state is an input, fed zeros at first, and an output
   "<state>/next". metadata_props have the entries of a model file, and "classes" and
   "preprocessing" in JSON, as in docs/networks.md. ft_load reads from them all that ft_save wrote,
   as long as no other tool has changed the nodes. At most 2 GiB. */
FINETUNE_API ft_status ft_save(ft_model *m, const char *path, ft_save_options options);
/* Fails as ft_save would, as far as that is known without writing: a network without a config of
   Keras cannot be a .keras file. Nodes that ONNX cannot hold are found by ft_save alone. Check it
   before hours of training. */
FINETUNE_API ft_status ft_check_save(ft_model *m, const char *path, ft_save_options options);
/* Returns the format that the end of a path suggests ("PyTorch" for .pt), which ft_save
   cannot write. NULL: ft_save accepts the path; of Keras' files not for every model, which
   ft_check_save says. */
FINETUNE_API const char *ft_other_format(const char *path);

/* ---- Tensors of any file ----
   ft_file_open returns NULL with an error. ft_file_close frees the file and all pointers that its
   functions returned. The .index.json of weights in several files is opened with these, as one
   file that has all their tensors; in memory it is FT_INVALID. */
FINETUNE_API ft_file *ft_file_open(ft_model *m, const char *path, ft_weights_options options);
FINETUNE_API void ft_file_close(ft_file *file);
FINETUNE_API int ft_file_count(const ft_file *file);
FINETUNE_API ft_tensor_info ft_file_tensor(const ft_file *file, int index);
FINETUNE_API int ft_file_find(const ft_file *file, const char *name); /* index; -1: none */
/* Returns the text of the entry `key` of __metadata__; NULL if there is none. */
FINETUNE_API const char *ft_file_metadata(const ft_file *file, const char *key);
/* Read a tensor, row-major, as float32 (from any type but FT_OTHER, which is FT_UNSUPPORTED) or as
   it is stored. `count` and `bytes` must be those of the tensor, else FT_SHAPE. */
FINETUNE_API ft_status ft_file_read_f32(ft_file *file, int index, float *to, size_t count);
FINETUNE_API ft_status ft_file_read(ft_file *file, int index, void *to, size_t bytes);
/* Writes all tensors of the file, under their names and with their bits, and its metadata, in the
   format that the end of `path` says: .npz, .npy (of a file of one tensor, whose name and metadata
   are not kept), Keras' as in ft_save, else safetensors; not ONNX, which holds a network. With
   options.type FT_F16 or FT_BF16, or .widen, floating-point numbers are converted, integers stay;
   .weights_only leaves out the metadata. What has no place in the format is FT_UNSUPPORTED, by the
   tensor's name; what is not kept, the log says. No network is needed, the rest as in ft_save. */
FINETUNE_API ft_status ft_file_save(ft_file *file, const char *path, ft_save_options options);

/* ---- Building: the functions of interface/operators, then these ---- */

/* The output is what prediction returns, and the loss is what training minimises. A network made
   by name or from a file has both (cross-entropy over the node "labels"). FT_INVALID for an input
   or a weight. */
FINETUNE_API void ft_set_output(ft_model *m, ft_node logits);
FINETUNE_API void ft_set_loss(ft_model *m, ft_node loss);
/* Exchanges the loss for one of FINETUNE_LOSS_LIST between the output and what the loss read: its
   labels or, if there is an input "target", that. Losses of targets then compare the output [N,
   classes] with labels as rows of zeros with a one: binary_cross_entropy learns each class against
   all others. Accuracy is counted as before, but not with ctc, which needs an output [N, L,
   classes] and labels [N, S], and reads the input "lengths" if L is FT_LENGTH. FT_INVALID if the
   network does not read what the kind needs; FT_UNSUPPORTED for language models, whose loss makes
   its logits itself.
   With binary_cross_entropy, sigmoid_focal and dice, by this call or another, the probabilities of
   predictions are sigmoids of the logits, each class's on its own, which need not add up to 1; with
   the others they are softmax's. */
FINETUNE_API ft_status ft_set_loss_kind(ft_model *m, const char *kind, ft_loss_options options);
/* Makes the loss ft_distillation from another network, the teacher, of the same classes, inputs
   and preprocessing. It is copied, in float32: nodes "teacher.<name>", whose weights are
   constants, never trained; `teacher` may be destroyed. ft_set_loss_kind(m, "cross_entropy", ...)
   removes them, before ft_save. */
FINETUNE_API ft_status ft_set_teacher(ft_model *m, ft_model *teacher, ft_loss_options options);
FINETUNE_API ft_node ft_output(const ft_model *m);
FINETUNE_API ft_node ft_loss(const ft_model *m);
/* The node [N, features] whose row is the vector of a text, which ft_embed_texts returns. It is
   saved with the model. ft_load sets it where a sentence-transformers' folder, or
   ft_network_options.pooling, says how the hidden states of a text's tokens become one vector.
   ft_text_vector returns {0} if there is none. FT_SHAPE for another shape, FT_INVALID for an input
   or a weight. */
FINETUNE_API void ft_set_text_vector(ft_model *m, ft_node vector, ft_text_vector_options options);
FINETUNE_API ft_node ft_text_vector(const ft_model *m);
FINETUNE_API void ft_set_preprocessing(ft_model *m, ft_preprocessing preprocessing);
FINETUNE_API ft_preprocessing ft_get_preprocessing(const ft_model *m);
/* Class names in the order of the labels: as many as the output has classes; 0 removes them. They
   are copied, and saved with the model. A NULL name becomes the class's number. */
FINETUNE_API void ft_set_class_names(ft_model *m, int count, const char *const *names);
FINETUNE_API const char *ft_class_name(const ft_model *m, int index); /* NULL: none */
/* If the output is [N, classes], or [N, L, classes] with class names; else 0, as for a language
   model, and for a text vector that is the output. */
FINETUNE_API int ft_class_count(const ft_model *m);

/* ---- Looking at it ---- */
/* {0} if no node has the name; an error where that {0} is used says which name was not found. */
FINETUNE_API ft_node ft_find(const ft_model *m, const char *name);
FINETUNE_API int ft_node_count(const ft_model *m);                 /* ids are 1..count */
FINETUNE_API const char *ft_node_name(const ft_model *m, ft_node node);
FINETUNE_API const char *ft_node_operator(const ft_model *m, ft_node node); /* "conv2d", ... */
FINETUNE_API ft_shape ft_node_shape(const ft_model *m, ft_node node); /* with FT_BATCH, FT_LENGTH */
/* Writes up to `most` of the node's inputs and returns how many there are. */
FINETUNE_API int ft_node_inputs(const ft_model *m, ft_node node, ft_node *inputs, int most);
FINETUNE_API bool ft_node_frozen(const ft_model *m, ft_node node);
/* The type of a node's numbers in memory: of a parameter see ft_set_type. FT_OTHER: no node. */
FINETUNE_API ft_type ft_node_type(const ft_model *m, ft_node node);
FINETUNE_API uint64_t ft_node_multiply_adds(const ft_model *m, ft_node node); /* per sample */
FINETUNE_API ft_time ft_node_time(const ft_model *m, ft_node node); /* with ft_desc.clock */
FINETUNE_API const char *ft_architecture(const ft_model *m); /* "resnet18", or "" */
/* Copy a node's numbers out or in, row-major: of a parameter, a buffer, an input, or the last run's
   output, loss or nodes of ft_keep (after ft_feed there is no last run). `count` must be the node's
   (an input's: as many as were fed), else FT_SHAPE. Ints are copied as their 4 bytes each. */
FINETUNE_API ft_status ft_get(ft_model *m, ft_node node, float *to, size_t count);
FINETUNE_API ft_status ft_set(ft_model *m, ft_node node, const float *from, size_t count);
/* Copies the gradient of the loss: of a trained parameter what ft_backward added up since the last
   ft_update, of a node of ft_want_gradient that of the last ft_backward alone. `count` is the
   node's, for an input as many as were fed. FT_INVALID if there is none. */
FINETUNE_API ft_status ft_get_gradient(ft_model *m, ft_node node, float *to, size_t count);
/* Any other node's memory is used again within a run. ft_keep: from the next run on, ft_get reads
   the node after it. It is computed even where neither output nor loss depends on it: so a network
   has several outputs. A run without the loss computes it if it reads no inputs but the output's.
   Its value has memory of its own, and is not folded or fused into the next operator, which may
   change last bits. FT_INVALID for an input or a weight, which ft_get reads anyway. */
FINETUNE_API ft_status ft_keep(ft_model *m, ft_node node);
/* From the next ft_forward(m, true) on, ft_backward computes the gradient of the loss by this node:
   an F32 input (saliency maps, adversarial examples) or any operator's result. All parameters may
   be frozen. For the gradient in evaluation form freeze everything, ft_freeze(m, "*"). The layers
   from this node on are then no longer a frozen prefix, so call ft_forget before ft_fit. */
FINETUNE_API ft_status ft_want_gradient(ft_model *m, ft_node node);
/* Undoes ft_keep and ft_want_gradient. */
FINETUNE_API ft_status ft_forget(ft_model *m, ft_node node);
/* Returns the most memory that the model will hold while it trains by hand (ft_forward,
   ft_backward, ft_update) or predicts (ft_run) with batches of this size. A memory_budget of
   `total` bytes is enough; if no optimiser is set, also for AdamW's state. If the model's budget is
   too small, the error is FT_MEMORY, and `total` is the smallest that is enough. Not included: data
   sources, batches that ft_fit and ft_evaluate load ahead, ft_fit's copy of the weights, and a
   picture being decoded. If they find no room, the error says how much is needed. */
FINETUNE_API ft_plan_bytes ft_plan(ft_model *m, int batch_size, bool training);

/* ---- Adjusting it ----
   Globs match whole names: * ? [a-z] [!a-z]; several are separated by commas. "bn1" matches no
   parameter, "bn1*" the four of that layer. Each function returns how many matched. 0 is no error,
   but the log names a pattern that matches nothing, and suggests the nearest name. */

/* Parameters, buffers and dropouts. Frozen ones lose gradient and optimiser state. A dropout that
   is not frozen is active in training, whatever is frozen around it: what it reads can be kept from
   epoch to epoch, what reads it is computed again. */
FINETUNE_API int ft_freeze(ft_model *m, const char *glob);
FINETUNE_API int ft_unfreeze(ft_model *m, const char *glob);
FINETUNE_API ft_digest ft_frozen_digest(ft_model *m);
/* Stores the frozen parameters that match in another type, so that they take less memory: FT_BF16
   or FT_F16 (rounded to nearest), FT_I8 (a scale for each row: output channel, or word; the largest
   number of a row becomes 127 or -127), or FT_F32 again. Vectors, such as biases, match but stay
   float32. Computations are in float32: where a product or an embedding reads such weights, they
   are converted, in each run. That takes time for small batches: of float32 weights, convolutions
   and layers keep a prepared copy. What is unfrozen becomes float32 when its training begins.
   Returns how many matched. FT_INVALID: one is not frozen or is shared (ft_share), or another type.
   FT_NOT_FINITE: a number does not fit the type. FT_UNSUPPORTED on an OpenCL device, where weights
   are float32. */
FINETUNE_API int ft_set_type(ft_model *m, const char *glob, ft_type type);
/* Gives the last linear layer before the output `classes` outputs and new, unfrozen weights under
   its old name, and removes the old class names; where the output is the sum of two such layers, as
   in DeiT, both. FT_INVALID if there is no such layer. */
FINETUNE_API ft_status ft_replace_head(ft_model *m, int classes);
/* Whatever reads `old` reads `replacement` instead, as output and loss too; what `replacement` is
   computed from goes on reading `old`. So it inserts (a node built on `old`, such as LoRA's sum
   beside a frozen linear layer), exchanges, or removes (the replacement is the layer's own input).
   Nodes that nothing reads any more are removed, with their weights; ids, names and other weights
   stay. FT_SHAPE if a reader's shapes do not fit, FT_INVALID if nothing reads `old`: then nothing
   is changed. */
FINETUNE_API ft_status ft_replace(ft_model *m, ft_node old, ft_node replacement);
/* Makes a node the output, as for features, and removes what came after it, the loss, and the class
   names. */
FINETUNE_API ft_status ft_cut(ft_model *m, ft_node output);
/* Adds LoRA adapters (Hu et al. 2021) beside the layers whose own names match, not those of their
   weights ("*.query,*.value" in a BERT): linear layers, embeddings, and convolutions without
   groups; NULL: all linear layers and convolutions but the head. A layer that has one keeps it.
   Then freezes all but the adapters and the head, and the network's own dropout before the first
   adapter; ft_freeze and ft_unfreeze can change that. The new parameters are PEFT's:
   "<layer>.lora_A.weight" [rank, in] and "<layer>.lora_B.weight" [out, rank]; of an embedding
   "<layer>.lora_embedding_A" [words, rank] and "<layer>.lora_embedding_B" [features, rank]; with
   options.dora also "<layer>.lora_magnitude_vector" [out], of a convolution [1, out, 1, 1]; with
   options.bias "<layer>.lora_B.bias" [out]. Returns the number of layers, 0 with an error:
   FT_INVALID if none matches. */
FINETUNE_API int ft_lora(ft_model *m, const char *glob, ft_lora_options options);
/* Adds each adapter's product to its layer's weight, which becomes float32, and removes the
   adapters: the network is as fast as before. What was frozen stays so. Returns how many there
   were. FT_UNSUPPORTED, and nothing is changed, if another layer reads the same weight, or if an
   adapter has a bias and its layer none. */
FINETUNE_API int ft_merge(ft_model *m, ft_merge_options options);
/* Undoes the last ft_merge that had options.keep: each layer has the bytes that it had before, and
   its adapter beside it, frozen or not as it was. What was trained in these weights since then is
   lost. Returns the number of adapters; 0 with an error: FT_INVALID if nothing was kept, or if a
   layer was removed or has another adapter now. */
FINETUNE_API int ft_unmerge(ft_model *m);
/* Writes the adapters, and what else is trained, into an existing folder as PEFT does:
   adapter_config.json and adapter_model.safetensors. PeftModel.from_pretrained reads it beside
   Hugging Face's ...ForSequenceClassification, whose names it has; the head of a network that was
   loaded without one stands on the mean of the tokens instead (ft_network_options.pooling), and
   fits there in shape only. The class names, whether the network reads pairs (ft_set_pairs) and
   ft_max_length are in the second file's metadata; the tokeniser is in neither. FT_INVALID without
   adapters; FT_UNSUPPORTED if only some of them are DoRA, or have a bias. */
FINETUNE_API ft_status ft_save_adapter(ft_model *m, const char *folder,
                                       ft_save_adapter_options options);
/* Adds the adapters that PEFT, or ft_save_adapter, wrote to the network of their base, and loads
   the layers that were trained whole beside them. Then all else is frozen, as after ft_lora. A
   field of the configuration that changes the result and is not implemented is FT_UNSUPPORTED;
   tensors without a place in the network are FT_MISMATCH, and nothing is changed then. A network
   that classifies texts first gets a head for tokens if the task_type is TOKEN_CLS. Class names,
   pairs and ft_max_length are as ft_save_adapter wrote them; the head takes its number of classes
   from the file. */
FINETUNE_API ft_status ft_load_adapter(ft_model *m, const char *folder);
/* Prepares training of text vectors by pairs of texts that mean the same. The text vector becomes
   the output: what came after it is removed. All that it is computed from is added once more, with
   the same weights, as nodes "<name>_b", with the inputs "tokens_b" and "lengths_b" for the second
   text. The loss of a batch is the mean over its pairs of
   -log(exp(s cos(a_i, b_i)) / sum over j of exp(s cos(a_i, b_j))), s options.scale, a and b the
   vectors of the first and the second texts: sentence-transformers' MultipleNegativesRankingLoss
   (Henderson et al. 2017). So that no pair is wrong for another, ft_fit puts pairs of ft_texts that
   share a text into different batches; what then fits into no batch of an epoch waits for the next,
   and the log says so. Of pairs with numbers see options.scored. ft_finetune does this itself for
   FT_TASK_EMBEDDINGS. After the training ft_cut(m, ft_text_vector(m)) removes the second copy.
   FT_INVALID without a text vector. */
FINETUNE_API ft_status ft_pair_loss(ft_model *m, ft_pair_loss_options options);
/* Changes the activations whose names match to `kind`. Returns how many; with an error, such as a
   shape that does not fit what reads it, the network is as before. If the number of classes
   changes, their names are removed. */
FINETUNE_API int ft_swap_activations(ft_model *m, const char *glob, const char *kind,
                                     ft_activation_options options);
/* For the parameters that match: a factor on the learning rate, and a weight decay instead of the
   optimiser's; negative: the optimiser's again. */
FINETUNE_API int ft_scale_learning_rate(ft_model *m, const char *glob, float factor);
FINETUNE_API int ft_set_weight_decay(ft_model *m, const char *glob, float weight_decay);
/* Sets the rate and the decay of each parameter in a group, and whether it is trained. One that
   several groups match is in the last of them; one that none matches stays as it is. Returns how
   many parameters are in a group. FT_INVALID: a number is negative or not finite, or an option has
   no effect beside `frozen` or `no_decay`. */
FINETUNE_API int ft_set_groups(ft_model *m, const ft_parameter_group *groups, int count);
/* Layer-wise decay: the learning rate of each layer becomes `factor` times that of the layer after
   it; the head has the whole rate. Layers are what a name numbers, such as "encoder.layer.3" or
   "layer2.0"; what comes before the first is one layer more, what comes after the last belongs to
   the head. If no name has such a number, each layer with parameters is one. Replaces the factors
   of ft_scale_learning_rate. Returns the number of layers below the head. FT_INVALID: factor is
   negative or not finite. */
FINETUNE_API int ft_decay_layers(ft_model *m, float factor);
/* Draws the weights again, from the model's seed. */
FINETUNE_API int ft_initialise(ft_model *m, const char *glob, ft_initialiser initialiser);

/* ---- Text; the model owns its tokenisers until ft_destroy or ft_tokenizer_free ---- */

/* Loads a tokeniser; the content decides of which kind it is:
     vocab.txt        WordPiece (Devlin et al. 2018), one piece per line, "[UNK]" among them
     vocab.json       byte-level BPE (Radford et al. 2019), with merges.txt beside it
     tokenizer.json   Hugging Face's: BPE of bytes (with GPT-2's, Llama 3's, Qwen's or SmolLM's
                      splitting) or of characters (Llama 2's), WordPiece, WordLevel; what changes
                      ids and is not implemented is FT_UNSUPPORTED and named
     a JSON list      of characters; the index of each is its id
     tok512.bin       llama2.c's: int32 longest piece, then float32 score, int32 bytes, the bytes
   Returns NULL with an error. */
FINETUNE_API ft_tokenizer *ft_tokenizer_load(ft_model *m, const char *path,
                                             ft_tokenizer_options options);
/* Builds an FT_WORDS or FT_CHARACTERS vocabulary from `count` texts, the most frequent pieces
   first; in FT_WORDS after "<pad>", "<unk>" and "<eos>". Returns NULL with an error. */
FINETUNE_API ft_tokenizer *ft_tokenizer_build(ft_model *m, ft_tokenizer_kind kind,
                                              const char *const *texts, int count,
                                              ft_vocabulary_options options);
FINETUNE_API void ft_tokenizer_free(ft_tokenizer *tokenizer);
/* Returns the ids of a text of `bytes` bytes of UTF-8; they are valid until the tokeniser is used
   again. What is not UTF-8 is unknown to FT_WORDS and FT_WORDPIECE, and bytes to all kinds of BPE.
   FT_CHARACTERS without "<unk>" leaves out what the vocabulary lacks. No part of a text becomes a
   special piece, unless options.parse_special says so; added pieces that are not special are found
   in any case. {NULL, 0} with an error. */
FINETUNE_API ft_tokens ft_tokenize(ft_tokenizer *tokenizer, const char *text, size_t bytes,
                                   ft_tokenize_options options);
/* Returns the ids of two texts as one sequence, with what the tokeniser puts around and between
   them: by tokenizer.json, or as its kind does (BERT: [CLS] first [SEP] second [SEP]; FT_WORDS:
   "<eos>" between). They are valid until the tokeniser is used again. {NULL, NULL, 0} with an
   error. */
FINETUNE_API ft_pair_tokens ft_tokenize_pair(ft_tokenizer *tokenizer, const char *first,
                                             size_t first_bytes, const char *second,
                                             size_t second_bytes,
                                             ft_tokenize_pair_options options);
/* Returns the text of ids without special pieces, ending in a 0 and valid until the tokeniser is
   used again, and its length in *bytes (or NULL). "" with an error. */
FINETUNE_API const char *ft_detokenize(ft_tokenizer *tokenizer, const int32_t *ids, int count,
                                       size_t *bytes);
FINETUNE_API ft_tokenizer_kind ft_tokenizer_kind_of(const ft_tokenizer *tokenizer);
FINETUNE_API int ft_tokenizer_count(const ft_tokenizer *tokenizer); /* of pieces */
FINETUNE_API const char *ft_tokenizer_piece(const ft_tokenizer *tokenizer, int id); /* NULL: none */
FINETUNE_API int ft_tokenizer_find(const ft_tokenizer *tokenizer, const char *piece); /* or -1 */
/* Sets the tokeniser that is saved with the model, so that prediction needs one file. */
FINETUNE_API ft_status ft_set_tokenizer(ft_model *m, ft_tokenizer *tokenizer);
FINETUNE_API ft_tokenizer *ft_get_tokenizer(const ft_model *m); /* NULL: none */
/* How many tokens of a text ft_texts keeps and ft_predict_text reads, at least 1; default 512. The
   rest is cut, and the log says so. Saved with the model. */
FINETUNE_API ft_status ft_set_max_length(ft_model *m, int tokens);
FINETUNE_API int ft_max_length(const ft_model *m);
/* Whether a sample is a pair of texts, which the model reads as one sequence (ft_tokenize_pair).
   Saved with the model; ft_texts of pairs sets it. A BERT gets the input "types" I32 [N, L], the
   types of the tokens, with the weights that it has; with types of 0 the bits stay. ft_run feeds
   zeros there. */
FINETUNE_API ft_status ft_set_pairs(ft_model *m, bool pairs);
FINETUNE_API bool ft_pairs(const ft_model *m);

/* ---- Data; the model owns it until ft_destroy or ft_data_free; NULL with an error ---- */

/* Samples from your functions, which must stay valid as long as the data. */
FINETUNE_API ft_data *ft_data_source(ft_model *m, ft_source source);
/* PATH/CLASS/anything.jpg|png|bmp|ppm|pgm|gif; classes in the order of their names. */
FINETUNE_API ft_data *ft_image_folder(ft_model *m, const char *path,
                                      ft_image_folder_options options);
/* `count` pictures in your memory: pixels[i] is rows of sizes[i].width * options.channels bytes,
   sizes[i].height of them without gaps, and labels [count] are from 0, or NULL without labels. The
   pixels are not copied: they must stay valid and unchanged as long as the data; the four arrays
   may go. A picture is resized, cropped and augmented as one of ft_image_folder, to the same bits.
   Fills "input" and, with labels, "labels". */
FINETUNE_API ft_data *ft_pixels(ft_model *m, int count, const uint8_t *const *pixels,
                                const ft_picture_size *sizes, const int *labels,
                                ft_pixels_options options);
/* Samples and labels in arrays of a file of tensors: NumPy's .npz with x and y, a .npy without
   labels, or any other that ft_file_open opens. For a network of pictures, U8 [N, H, W], [N, H, W,
   C] or [N, C, H, W] is as ft_pixels; other numbers are as ft_arrays: used as they are, in the
   shape of the input, pictures also [N, H, W, C]. Labels are whole numbers [N] from 0; for a
   network with an input "target", targets [N] or [N, size]. The log names the arrays that are used.
   FT_INVALID if the sizes fit both layouts (options.layout decides) or labels are no whole numbers;
   FT_SHAPE if they fit none. The arrays are read into memory that belongs to the data. */
FINETUNE_API ft_data *ft_array_file(ft_model *m, const char *path, ft_array_file_options options);
/* `count` samples in your memory, which must stay valid as long as the data: values [count, the
   input's shape], and labels [count] from 0, or NULL without labels. options.more fills the other
   inputs of a network with several. */
FINETUNE_API ft_data *ft_arrays(ft_model *m, int count, const float *values, const int *labels,
                                ft_array_options options);
/* Labelled texts: a table (.tsv, .csv by RFC 4180, .jsonl with an object per line) or a folder
   PATH/CLASS/files, one text each. Text is UTF-8, or UTF-16 with a byte order mark. A table is
   checked first: a record with another number of columns, an empty label or a quote that is never
   closed is FT_FORMAT, with its line. Classes are in the order of their names. Fills the inputs
   "tokens" I32 [FT_LENGTH], "lengths" I32 and "labels" I32. Batches hold texts of similar length.
   Two columns of known names (sentence1 and sentence2, ...), or options.pair, make pairs: "tokens"
   are both texts then, "types" I32 [FT_LENGTH] says which (ft_set_pairs). Labels that are numbers,
   one of them with a fraction, or options.task, make a regression: "target" F32 [1] instead of
   "labels".
   Sentences whose words have classes come from a CoNLL file (.conll, .bio, .iob, or by its content,
   or options.task): a word and its tag on each line, as first and last column, and an empty line
   after a sentence. Tags are O, B-TYPE or I-TYPE; classes of each type both, in the order of their
   names. "labels" is [FT_LENGTH] then: a word's class at its first piece, else -1.
   If "labels" is [FT_LENGTH], a language model learns each text by itself: a word's label is the
   next word, the last word's the end piece; without an end piece, or with .shuffle, it is -1. Use
   .shuffle and .subsample for a model that learns which words occur together, not their order. */
FINETUNE_API ft_data *ft_texts(ft_model *m, const char *path, ft_text_options options);
/* One text as parallel streams for a language model; a recurrent network's state is carried from
   batch to batch. Fills "tokens" and "labels" I32 [FT_LENGTH], and "lengths". The batch size of
   ft_fit and ft_evaluate is the number of streams. */
FINETUNE_API ft_data *ft_text_streams(ft_model *m, const char *path, ft_stream_options options);
FINETUNE_API void ft_data_free(ft_data *data);
FINETUNE_API int ft_data_count(const ft_data *data);
FINETUNE_API int ft_data_classes(const ft_data *data);
/* What is learnt from it, unless ft_finetune_options.task says otherwise: what ft_texts recognised,
   FT_TASK_LANGUAGE_MODEL of streams, FT_TASK_CLASSIFICATION of other data with classes;
   FT_TASK_AUTO: unknown. */
FINETUNE_API ft_task ft_data_task(const ft_data *data);
/* "classification", "regression", "tokens", "embeddings" or "language-model"; else "auto". */
FINETUNE_API const char *ft_task_name(ft_task task);
FINETUNE_API const char *ft_data_class_name(const ft_data *data, int c); /* NULL: none */
/* A picture's path in its folder, the beginning of a text; "" if samples have no names. */
FINETUNE_API const char *ft_data_name(const ft_data *data, int index);
FINETUNE_API int ft_data_label(const ft_data *data, int index);          /* -1: none */
/* Reads one sample as a batch has it: fills the slots whose names the data knows ("input",
   "labels", ...). Set name, type, shape (of one sample) and values of each before. View 0 is the
   plain sample, views from 1 on are augmented. FT_IO if it cannot be read, or not so shaped. */
FINETUNE_API ft_status ft_data_read(ft_data *data, int index, int view, ft_slot *slots,
                                    int slot_count);
/* Which samples ft_fit holds back with this ft_fit_options.hold_back (ft_finetune's trial: 0.2).
   That depends on the labels, the groups and ft_desc.seed only, so ask before ft_fit or after it.
   Writes up to `most` indices, in ascending order, and returns how many there are: 0 of streams,
   and after an error. */
FINETUNE_API int ft_data_held_back(ft_data *data, float hold_back, int *indices, int most);
/* The number of samples that could not be read so far, each counted and logged once: those of a
   folder when it is opened, those of a source when get() returns false. */
FINETUNE_API int ft_data_skipped(const ft_data *data);

/* ---- Training ---- */

/* The default recipe: trains a new head for the data's classes on frozen features. If too few of
   the held-back samples are then right, trains deeper layers too; if fewer than 10 can be held
   back, the head alone, of pictures as class means (ft_finetune_options.class_means). At least 2
   classes, or numbers: a regression trains the whole network at once, with a head whose output is
   in the data's unit, and ft_mse of "target". A model that has the data's classes already keeps its
   head. This choice, or options.freeze or head_only, replaces
   what ft_freeze did. With adapters (ft_lora) these are what is trained deeper. For sentences whose
   words have classes a network that classifies texts gets a linear layer "classifier" over each
   step instead of its pooling and head; transformers are then trained whole. Those that classify
   texts begin with the head otherwise, unless they have adapters, which are trained at once with
   it; those that are language models are trained whole, or their adapters; each stage has a rate of
   its own (ft_fit has one default for all networks). Layers of a ViT, DeiT or DINOv2 are trained
   deeper with rates that fall by 0.75 with each layer below the head, unless the caller has set
   rates. For FT_TASK_EMBEDDINGS ft_pair_loss trains the text vector, which is the output then. */
FINETUNE_API ft_finetune_result ft_finetune(ft_model *m, ft_data *data,
                                            ft_finetune_options options);
/* Trains whatever is not frozen. A model without class names takes the data's, if its output has as
   many classes. After each epoch it checks the weights and a batch's loss: if they
   are not finite, it fails with FT_NOT_FINITE and the weights of the last good epoch. */
FINETUNE_API ft_fit_result ft_fit(ft_model *m, ft_data *data, ft_fit_options options);
/* Finds a learning rate for a fit with these options, by a range test (Smith 2017): trains for some
   steps with a rate that grows from step to step by the same factor, until the smoothed loss is 4
   times its least, and returns the rate at which that loss fell fastest, in the longest stretch in
   which it fell. Weights, statistics, states, the optimiser and the random stream are as before,
   bit for bit; gradients that wait for an update are dropped. Returns 0 with an error, or if the
   loss did not fall, which the log says. Schedule, held-back samples, averages and checkpoint of
   `fit` are not used; its progress is called and can stop the search. */
FINETUNE_API float ft_find_learning_rate(ft_model *m, ft_data *data, ft_fit_options fit,
                                         ft_find_options options);
/* Trains the settings of the options, of a network with a class or a number for each sample, and
   ends with the best of them in the model, as ft_finetune with options.freeze leaves it. By
   successive halving (Jamieson and Talwalkar 2016): all settings are trained for a few epochs, the
   best third of them three times as long, and so on. A run continues from where it was. Best is the
   higher accuracy on the samples that are held back (of a regression the lower mean squared error),
   of equal ones the lower loss; nothing else chooses. A setting that does not differ from the
   winner beyond noise says so (ft_sweep_row.differs); the winner's own value is a little too good,
   as of the best of several always: score it on other data.
       `path` is a file for the state of the sweep, which continues from it with the same result, if
   model, data and options are the same; each row and decision is there. Beside it, under its name
   with numbers behind, are the checkpoints of the settings that may still go on, until the end. The
   outputs of frozen layers are shared by the settings that have the same ones, through
   ft_desc.cache or in memory. The model needs memory for a second one beside it. Not for adapters,
   shared models and an arena. After an error, or if progress stopped it, the model is as before;
   only once a winner was found, and its checkpoint was removed, is it trained itself. */
FINETUNE_API ft_sweep_result ft_sweep(ft_model *m, ft_data *data, const char *path,
                                      ft_sweep_options options);
/* Measures all samples: the mean loss, and accuracy with its Wilson interval (1927) or, for a
   regression, mean squared error, R2 and, of one number, Pearson's and Spearman's correlations;
   with options.metrics many more, each with its interval. Logs a line if no entity is found, or if
   at least 10 predictions are all of one class and the labels are not. Changes no weight. */
FINETUNE_API ft_evaluation ft_evaluate(ft_model *m, ft_data *data, ft_evaluate_options options);
/* Renews the running statistics of batch norms by a forward pass over the data, in training form
   but without a gradient: afterwards they are the means over its batches, as update_bn of
   torch.optim.swa_utils makes them. For a network whose activations were swapped, or for pictures
   of another kind. Frozen norms keep theirs. Returns how many norms were renewed; 0 with an error.
   The other weights stay as they are. */
FINETUNE_API int ft_recalibrate(ft_model *m, ft_data *data, ft_recalibrate_options options);
/* Fits the temperature T by which the logits are divided before they become probabilities, so that
   these are neither too sure nor too unsure (Guo et al. 2017): it minimises the mean of -log(the
   label's probability). The most probable class stays the same. Give it samples that were not
   trained on: data of its own, or options.hold_back as in the training. T is kept in the model, in
   its file, and used by ft_predict_file and the like, by ft_sample_result and by ft_metrics; not by
   ft_run, nor by the loss. Training sets it to 1 again. FT_INVALID unless the output is the logits
   of one class for each sample. */
FINETUNE_API ft_calibration ft_calibrate(ft_model *m, ft_data *data, ft_calibrate_options options);
/* The temperature, 1 by default; above 0. After a training loop by hand set it to 1, or fit it
   again. */
FINETUNE_API ft_status ft_set_temperature(ft_model *m, float temperature);
FINETUNE_API float ft_temperature(const ft_model *m);
/* The name of a metric: "accuracy", "f1_macro", "roc_auc" and so on; "" if there is none. */
FINETUNE_API const char *ft_metric_name(ft_metric metric);

/* The training loop by hand:
       ft_set_optimizer(m, options);                  (optional: else AdamW with its defaults)
       for (...) { ft_feed(m, input, x, batch); ft_feed(m, labels, y, batch);
                   loss = ft_forward(m, true); ft_backward(m); ft_update(m, learning_rate); }
   ft_set_optimizer is for this loop only: ft_fit uses ft_fit_options.optimizer. */
FINETUNE_API ft_status ft_set_optimizer(ft_model *m, ft_optimizer_options options);
/* Copies in values [batch, the input's shape]: float, or int32_t if the input is FT_I32. They stay
   until the input is fed again. All inputs of a run need the same batch, else ft_forward fails with
   FT_SHAPE. */
FINETUNE_API ft_status ft_feed(ft_model *m, ft_node input, const void *values, int batch);
/* Copies in the weights of the batch's samples in the loss, [batch], each at least 0. A mean over
   samples is then the sum of weight times loss by the sum of weights (0 if that is 0), and a sum
   that of weight times number, as if a sample of weight 2 were there twice: also in a loss that is
   computed from such means and sums, as ft_distillation and dice are. For class weights, as
   `weight` of PyTorch's cross_entropy, multiply each by the weight of the sample's class. They stay
   until they are fed again, for batches of this size; NULL: all are 1. It is for the loop by hand:
   ft_fit has ft_fit_options.class_weights and ft_source.weight. FT_INVALID if the loss is not made
   of such: FINETUNE_LOSS_LIST, ft_embedding_loss, ft_distillation, or "mean" and "sum" of
   ft_reduce. */
FINETUNE_API ft_status ft_feed_weights(ft_model *m, const float *weights, int batch);
/* Sets the number of steps of FT_LENGTH from now on; call it before ft_feed, ft_run, ft_plan,
   ft_fit. Default 1. A run that is shorter than the longest one so far costs less accordingly.
   ft_fit, ft_evaluate, ft_predict_text and ft_generate use the lengths of their samples, and leave
   this one unchanged. */
FINETUNE_API ft_status ft_set_length(ft_model *m, int length);
FINETUNE_API int ft_length(const ft_model *m);
/* Runs the network on what was fed and returns its loss; 0 with an error, or if no loss is set.
   With training false, labels and other inputs that only the loss needs may be missing (never fed,
   or fed for a run of another batch size): it computes the output, for ft_get, and returns 0.
   FT_NOT_FINITE if the loss or, with training false, the output or a weight is NaN or infinite. */
FINETUNE_API float ft_forward(ft_model *m, bool training);
/* Call it once after ft_forward(m, true). It adds to the gradients, so that several batches can
   make one update. */
FINETUNE_API ft_status ft_backward(ft_model *m);
/* One optimiser step at this rate, which you may change from step to step; then sets the gradients
   to zero. If a gradient is not finite, it drops them all, changes nothing, and fails with
   FT_NOT_FINITE. */
FINETUNE_API ft_status ft_update(ft_model *m, float learning_rate);
/* Sets the carried states whose names match to zero, for a new sequence. Returns how many. */
FINETUNE_API int ft_reset_state(ft_model *m, const char *glob);
/* Returns the factor on the learning rate at `step` (from 0) of `steps`, the first `warmup` of
   which rise linearly. step_size counts steps where ft_fit_options.step_epochs counts epochs, and
   gamma is that of ft_fit_options. Without losses, the factor of FT_PLATEAU stays 1. */
FINETUNE_API float ft_schedule_factor(ft_schedule schedule, int step, int steps, int step_size,
                                      float gamma, int warmup);

/* ---- Prediction ---- */

/* Classify one picture, from a path or from encoded bytes: write the `count` most probable classes,
   best first, and return how many were written, 0 on error. FT_NOT_FINITE if a weight or the output
   is NaN or infinite, here and in the functions below. */
FINETUNE_API int ft_predict_file(ft_model *m, const char *path, ft_prediction *best, int count);
FINETUNE_API int ft_predict_memory(ft_model *m, const void *bytes, size_t count_of_bytes,
                                   ft_prediction *best, int count);
/* `pixels`: rows of 8-bit grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4), without gaps.
   They are converted to the network's channels: grey is repeated, colour becomes grey by ITU-R
   601's luma (Pillow's convert("L")), alpha is dropped. Then ft_preprocessing resizes them. */
FINETUNE_API int ft_predict_pixels(ft_model *m, const uint8_t *pixels, int width, int height,
                                   int channels, ft_prediction *best, int count);
/* Classifies a text of `bytes` bytes of UTF-8, with the model's tokeniser; as ft_predict_file. */
FINETUNE_API int ft_predict_text(ft_model *m, const char *text, size_t bytes,
                                 ft_prediction *best, int count);
/* Finds the entities in a text of `bytes` bytes of UTF-8, with a model whose classes are O, B-TYPE
   and I-TYPE. Words end at spaces; punctuation before and after one is a word of its own, and so is
   an ending such as 's. A text of more than ft_max_length tokens is read in parts. Writes up to
   `most` entities, in the order of the text, and returns how many there are; 0 on error. */
FINETUNE_API int ft_predict_entities(ft_model *m, const char *text, size_t bytes,
                                     ft_entity *entities, int most);
/* Classifies `count` words of one text, as they are split in the training data: best [count] gets
   the most probable class of each; class_index is -1 for a word that the tokeniser drops. Returns
   how many have a class, 0 on error. */
FINETUNE_API int ft_predict_words(ft_model *m, const char *const *words, int count,
                                  ft_prediction *best);
/* Classifies a pair of texts, with a model that reads pairs (ft_set_pairs); as ft_predict_text. */
FINETUNE_API int ft_predict_pair(ft_model *m, const char *first, size_t first_bytes,
                                 const char *second, size_t second_bytes, ft_prediction *best,
                                 int count);
/* Writes the output for a text, or for a pair with `second` (else NULL and 0): the logits of the
   classes, or the number of a regression. `count` is how many the output has, else FT_SHAPE. */
FINETUNE_API ft_status ft_run_text(ft_model *m, const char *text, size_t bytes, const char *second,
                                   size_t second_bytes, float *output, size_t count);
/* Classifies every sample of the data, in batches: pictures of ft_pixels or of a folder, texts,
   arrays, your own source; labels are not read. best [ft_data_count(data)][count]: the `count` most
   probable classes of each sample, best first, with the bits that ft_predict_pixels and the others
   give for it alone. Where the network has fewer classes than `count`, and for a sample that cannot
   be read, class_index is -1 and probability 0. Returns the number of samples predicted, 0 on
   error. FT_INVALID for text streams. */
FINETUNE_API int ft_predict_data(ft_model *m, ft_data *data, ft_prediction *best, int count,
                                 ft_predict_options options);
/* Writes the vectors of `count` texts, UTF-8 that ends in a 0: vectors [count, features], with the
   features of ft_text_vector's shape. `numbers` is the size of `vectors` and must be count *
   features, else FT_SHAPE. Batches hold texts of similar length; a text has the same bits alone and
   in any batch. A text is cut as in ft_predict_text. Returns the number of texts, 0 on error.
   FT_INVALID without a tokeniser, or without a text vector: load the model with
   ft_network_options.pooling. */
FINETUNE_API int ft_embed_texts(ft_model *m, const char *const *texts, int count, float *vectors,
                                size_t numbers, ft_embed_options options);
/* Continues texts token by token, each drawn from the language model's prediction. A recurrent
   network's states start at zero, and after it are those of the last text's end. A transformer runs
   each prompt at once, then one token at a time with the keys and values of those before, which
   take memory for the prompts and `length` tokens; prompts are continued side by side. A text ends
   at the tokeniser's end token, before a stop string, after `length` tokens, or where the table of
   positions ends, which the log says. The same options give the same text. Returns the number of
   tokens generated, of all texts, 0 on error. */
FINETUNE_API int ft_generate(ft_model *m, ft_generate_options options);
/* Run a network whose output depends on one input: values [batch, the input's shape], float, or
   int32_t if the input is FT_I32 -> output [batch, the output's shape]. `count` is the size of
   `output` in numbers, which must be the batch's, else FT_SHAPE. ft_run sets an input "lengths" to
   ft_length(m), since all steps are real; ft_run_lengths sets each sample's number of real steps, 0
   to ft_length(m). FT_INVALID if the output depends on more inputs: feed them all with ft_feed,
   call ft_forward(m, false), and read the output with ft_get. FT_NOT_FINITE if a weight or the
   output is NaN or infinite (-infinity in the output is allowed). */
FINETUNE_API ft_status ft_run(ft_model *m, const void *values, int batch, float *output,
                              size_t count);
FINETUNE_API ft_status ft_run_lengths(ft_model *m, const void *values, const int *lengths,
                                      int batch, float *output, size_t count);
/* Reads the output of a network that was trained with ft_ctc_loss: logits [steps, classes] of one
   sample -> the labels that the most probable class of each step stands for, with room for `steps`.
   Returns how many there are; 0 if a pointer is NULL. This is the best path, which need not be that
   of the most probable labels. */
FINETUNE_API int ft_ctc_decode(const float *logits, int steps, int classes, int blank,
                               int *labels);

/* ---- Several threads, one set of weights ---- */

/* Makes a model with the network and the very weights of `m`, which are held once, packed and
   folded ones too, and with inputs, values, states, tokeniser, threads and errors of its own. So
   several threads predict at once, each with its share, and one with `m`, to the same bits. `desc`
   is as for ft_create; simd and precision are m's. NULL with an error of `m`: FT_UNSUPPORTED on a
   device, FT_INVALID if `m` has no network or is a share.
   As long as there are shares, calls that would change a shared weight are FT_INVALID, on `m` and
   on shares: loading, ft_set, ft_initialise, ft_replace_head, ft_finetune, and training where it is
   not frozen. A share may get layers of its own and train them, all else frozen.
   Call ft_share, and ft_destroy for `m`, on the thread that uses `m`; ft_destroy for a share on its
   own thread, before or after. The weights are released with the last of these models. The values
   of the last run of `m` are lost. */
FINETUNE_API ft_model *ft_share(ft_model *m, ft_desc desc);
