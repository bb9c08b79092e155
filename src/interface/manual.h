#pragma once

/* =============================================================================================
   [SECTION] interface/manual: Manual

   WHAT FINE-TUNING IS
     A network that was trained on a large dataset has learnt features that help with other tasks.
     Replace its last layer (the head) with one for your classes and train only that, on the
     features that the frozen layers compute from your few pictures. If that is not enough, train
     the layers below too, at a small learning rate. ft_finetune does this. ft_fit trains whatever
     is not frozen. ft_feed, ft_forward, ft_backward and ft_update are the training loop by hand.

   CONCEPTS
     model      ft_model: a network, its weights, and everything made with it.
     node       one tensor and the operator that computes it. Parameters and inputs are nodes too.
                A node's id never changes. Nodes have names. A layer's parameters are called
                "<layer>.weight" and "<layer>.bias" as in PyTorch, so that weights load by name.
     shape      NCHW for pictures, OIHW for convolution weights. FT_BATCH stands for the number of
                samples, which each run may choose.
     length     the number of steps of a sequence. Sequences have FT_LENGTH in their shape, and
                ft_set_length sets the length of a run. In a batch of sequences of different
                lengths the shorter ones are padded: an I32 input "lengths" [N] says how many steps
                of each are real. Operators that must not read the padding take that node as an
                input. Labels of -1 are not counted.
     frozen     no gradient, no optimiser state, no weight decay. A batch norm whose weight and
                bias are frozen runs in evaluation form and its running statistics do not change.
                A frozen dropout is off; any other is active in training, also between frozen
                layers, as in PyTorch's train(). ft_fit computes a digest of all frozen bytes
                before and after training and reports both.
     prefix     the layers before the first trained parameter or active dropout. They run in
                inference form (batch norm folded into the convolution). ft_fit keeps their outputs
                in memory if they fit (ft_fit_options.cache_bytes, ft_desc.memory_budget), so that
                each picture goes through them once, not once an epoch. With ft_desc.cache it goes
                through them once for all runs with the same weights and pictures.
     view       a picture as it is (view 0), or an augmented copy of it: shifted, cropped, mirrored,
                turned, with other colours (ft_augmentation).

   TEXT
     A tokeniser turns a text into numbers (ft_tokenizer_load, or ft_tokenizer_build from texts).
     The model file contains it. ft_texts reads texts or pairs of texts with classes or numbers,
     or sentences whose words have classes; for a language model ft_text_streams reads a text,
     ft_completions answers and chats. ft_predict_text, ft_predict_pair, ft_run_text,
     ft_predict_entities, ft_embed_texts and ft_generate use what was learnt.
     Networks that read text have an I32 input "tokens" [N, FT_LENGTH] and, to classify, "lengths"
     [N]. examples/text_classifier.c and examples/char_rnn.c build both kinds; transformer.c there
     writes attention out, and lora.c an adapter. To train adapters (LoRA) of a network that was
     loaded: ft_texts, ft_lora(m, NULL, (ft_lora_options){.rank = 8}), ft_finetune,
     ft_save_adapter; any other network has them as well.

   OWNERSHIP
     The model owns its nodes, its data sources and its plans; ft_destroy frees them all. A pointer
     that a function returns belongs to the model, or to the object that the function was called
     on. Close an ft_file with ft_file_close before you destroy its model.

   ERRORS
     The first error sticks to the model: every later call returns at once and does nothing. One
     look at ft_error(m) at the end is enough. ft_error_text says what failed, where, and what was
     expected. ft_clear_error clears the error. After FT_NOT_FINITE in ft_fit the weights are those
     of the last good epoch. After a device failure too, and the model continues on the CPU.
     The loop by hand keeps no copy of the weights: ft_update refuses gradients that are not finite,
     but it cannot undo steps at a learning rate that was too high. Save and restore weights
     yourself with ft_get and ft_set.
     Every function accepts a NULL model, which means that there was no memory for one: it does
     nothing and returns FT_MEMORY, NULL, {0} or 0. A NULL file, data source or tokeniser, which a
     failed call returned, is accepted too; a call that needs one is FT_INVALID.
     An option that has no effect where it is set (momentum with Adam) is an error too, FT_INVALID.
     If a pattern matches nothing, the log suggests the nearest name. ft_find returns {0} if it
     finds nothing; the call that uses the {0} then fails and suggests the nearest name.
     The library never aborts, exits, prints or raises a signal.

   THREADS
     Use a model from one thread at a time. Different models may be used from different threads at
     once. ft_share makes models for other threads that use one set of weights, to predict or to
     train layers of their own. Inside, a model runs ft_desc.threads threads of its own, or calls
     ft_desc.parallel_for. A data source's get() is called from several threads.

   DEVICES
     ft_desc.device names an OpenCL device (ft_devices lists them). Before an operator runs there
     for a shape, its kernels are compared with the CPU on a sample of two and, with ft_desc.clock,
     timed. An operator that gives wrong results, or is slower on the GPU, runs on the CPU, and the
     log says so. With a clock, several tile sizes of a GPU's matrix products are tried for about a
     second. The choices are kept in the checkpoint. Every operator but ft_custom and
     ft_linear_cross_entropy has kernels. If all of them pass
     on the device, only the batch and the loss are copied in a training step. The host needs as
     much memory as the device.

   DETERMINISM
     The same machine, SIMD level and seed give the same bits with any number of threads. A sample's
     prediction does not depend on the batch that it is in. A run that was killed and is started
     again with the same options and its checkpoint ends with the same bytes. Other data
     (content, labels or order), other options or a damaged checkpoint are an error that says so.

   MEMORY
     Nothing is allocated in a training step after the first. ft_plan returns the memory that a run
     will need. ft_desc.memory_budget is kept: values that do not fit are dropped and computed again
     in backward, and weights are prepared in each run instead of once, to the same bits. If even
     that does not fit, the error is FT_MEMORY. A budget that was enough to train is enough to
     predict, with batches no larger: of the two plans only one is kept then. A device's memory
     counts too, and nothing is computed again there. All memory of the host can come from your
     allocator or from one block (ft_desc.arena).

   FORMATS
     read    safetensors (all types; F16, BF16 and integers become float32, or stay as they are:
             ft_weights_options.keep_types); PyTorch's .pt and .pth
             as torch.save writes them, holding a state_dict or a checkpoint that has one;
             Keras' .keras, .h5 and .weights.h5, Functional and Sequential, by ft_desc.hdf5;
             ONNX, opsets 7 to 22 (operators: docs/onnx.md): a network that is trained and saved
             like any other;
             NumPy's .npy and .npz (arrays of numbers, in any order of bytes and of elements);
             TensorFlow's variables, of a SavedModel (variables/variables.index) or a checkpoint
             (NAME.index), without the network: "conv/kernel" is then "conv.weight" in our layout;
             Hugging Face's folders of BERT, RoBERTa, DistilBERT, GPT-2, Llama, Qwen2, Qwen3, ViT,
             DeiT and DINOv2: config.json, weights in one file or in several with their index,
             tokenizer, image preprocessor, sentence-transformers' pooling; PEFT's folders of LoRA
             and DoRA adapters;
             vocabularies: vocab.txt, vocab.json with merges.txt, tokenizer.json of WordPiece,
             WordLevel and BPE, llama2.c's tokenizer.bin
             networks described in JSON, written by hand or by ft_graph_text (docs/networks.md):
             ft_load_graph, ft_load_options.architecture
     write   safetensors: weights under their own names, the network's description in __metadata__;
             the same as NumPy's .npz (ft_save, ft_file_save);
             Keras' .keras, .h5 and .weights.h5, of a network that was opened with Keras' config, by
             ft_desc.hdf5 (ft_save, ft_file_save);
             ONNX of opset 17 for other runtimes, which compute the output without the loss, and
             read back whole (ft_save);
             NumPy's .npy, of one tensor (ft_file_save); adapters as PEFT has them
     images  JPEG, PNG, BMP, GIF (its first frame), and binary PPM and PGM. Samples are those of
             Pillow's convert("RGB"), of JPEG within the rounding of decoders: alpha is dropped,
             CMYK converted, 16 bits cut to 8. EXIF's orientation is applied, as viewers do it and
             ImageOps.exif_transpose does; torchvision's ImageFolder does not. Refused, with the
             reason: damaged files, 16-bit grey, compressed BMP, plain (ASCII) PPM and PGM,
             pictures of more than 2^27 pixels, files above 256 MiB.

   CONFIGURATION, before the #include
     FINETUNE_IMPLEMENTATION   in exactly one file: compiles the library
     FINETUNE_NO_THREADS       everything runs on the calling thread
     FINETUNE_NO_SIMD          plain C only
     FINETUNE_NO_POSIX         files through stdio; folders cannot be listed; no threads
     FINETUNE_NO_...           leaves out one of the families below
     FINETUNE_ONLY             leaves out all families but those of FINETUNE_USE_...: to load a
                               ResNet and predict, FINETUNE_USE_CONVOLUTION, _RESNET and _STDIO
                               (tests/programs/smallest.c). ft_linear, the activations of
                               FINETUNE_ACTIVATION_LIST, cross-entropies, ft_mse, ft_add, ft_reshape
                               and the like are always there
     FINETUNE_OPENCL           ft_desc.device may name an OpenCL device. To compile, kernels.cl must
                               be beside the header and CL/cl.h installed. There is nothing to link
                               (-ldl before glibc 2.34). The program starts where there is no OpenCL
     FINETUNE_API              put before each public function; default: extern. In a program of one
                               file "static __attribute__((unused))" (GCC, clang) also leaves out
                               what it does not call

   FAMILIES: all functions exist in every build; those of a family that was left out fail with
   FT_UNSUPPORTED, and so does a model file that needs its operators. The error names the macro
     FINETUNE_NO_TRAINING      (or FINETUNE_USE_TRAINING, and so on) gradients, optimisers, and
                               ft_fit, ft_finetune and ft_recalibrate (need DATA)
     FINETUNE_NO_DATA          ft_data_source, ft_arrays, ft_array_file, ft_pixels,
                               ft_evaluate, ft_calibrate, ft_predict_data, and model files with
                               a temperature
     FINETUNE_NO_IMAGES        image files: ft_predict_file, ft_predict_memory, and ft_image_folder
                               (needs DATA)
     FINETUNE_NO_TEXT          tokenisers, ft_predict_text, ft_predict_entities,
                               ft_predict_words, ft_generate, and ft_texts, ft_text_streams and
                               ft_completions (need DATA)
     FINETUNE_NO_CONVOLUTION   ft_conv2d and the others that FT__CONVOLUTION_OPERATORS lists
     FINETUNE_NO_DEPTHWISE     convolutions with one input channel in each of several groups (need
                               CONVOLUTION)
     FINETUNE_NO_RECURRENT     ft_lstm, ft_gru, ft_rnn, and the networks made of them
     FINETUNE_NO_ATTENTION     ft_attention and the others that FT__ATTENTION_OPERATORS lists
     FINETUNE_NO_ARITHMETIC    ft_unary, ft_binary, ft_reduce and the others that
                               FT__ARITHMETIC_OPERATORS lists, FINETUNE_MORE_ACTIVATION_LIST,
                               ft_loss_by_kind, ft_embedding_loss, ft_distillation,
                               ft_set_loss_kind (needs SURGERY)
     FINETUNE_NO_RESNET        the ResNets by name (need CONVOLUTION)
     FINETUNE_NO_MOBILENET     MobileNet by name (needs DEPTHWISE)
     FINETUNE_NO_KERAS_CNN     the small CNN of Keras by name (needs CONVOLUTION)
     FINETUNE_NO_TRANSFORMERS  transformers by name, Hugging Face's folders, and
                               ft_load_adapter, ft_save_adapter (need ATTENTION, ARITHMETIC)
     FINETUNE_NO_PYTORCH       reading PyTorch's files
     FINETUNE_NO_ONNX          reading and writing ONNX files
     FINETUNE_NO_KERAS         reading and writing Keras' files (ft_desc.hdf5)
     FINETUNE_NO_NUMPY         NumPy's .npy and .npz files
     FINETUNE_NO_TENSORFLOW    TensorFlow's variables
     FINETUNE_NO_SAVING        ft_save, ft_graph_text
     FINETUNE_NO_SURGERY       ft_replace, ft_cut, ft_replace_head, ft_swap_activations, ft_lora,
                               ft_merge, ft_unmerge
     FINETUNE_NO_SHARING       ft_share
     FINETUNE_NO_STDIO         opening files: they come from memory, or by ft_desc.files
     FINETUNE_NO_WINOGRAD      the fast form of 3x3 convolutions (needs CONVOLUTION). Without it
                               they are slower, and their last bits differ
     FINETUNE_NO_BF16          ft_desc.precision "bf16" and "bf16_emulated" on the CPU
     FINETUNE_NO_AVX512        the kernels for AVX-512: AVX2's run instead

   PRECISION
     Values are float32, and by default so are the factors of matrix products. ft_desc.precision
     "bf16" rounds both factors to bf16 in convolutions (not grouped ones) and linear layers,
     forward and backward; where a 3x3 convolution uses Winograd's form, after its transforms. Sums
     are float32. It is faster with AVX512_BF16 and fails with FT_UNSUPPORTED without it;
     "bf16_emulated" gives the same bits anywhere, slowly. Files hold float32 either way. A
     checkpoint continues with the precision that its run began with.
     Frozen weights may lie in memory as F16, BF16 or int8 (ft_set_type), or in a mapped file in its
     type (ft_weights_options.keep_types). They are converted where they are read, so that the
     results are those of the rounded numbers in float32. What is trained is float32.
     On NVIDIA GPUs from compute capability 8.0 on, "tf32" and "bf16" round the factors to 11 or 8
     bits for the tensor cores, if that is fastest and passes the check: within 0.4 and 3.2 percent
     of the largest value. Other devices compute in float32, and the log says so.

   LIMITS
     Inputs: pictures, vectors, sequences. Of transformers by name only those of ft_network.
     OpenCL was run on PoCL, Intel's CPU runtime and Oclgrind only. There is code for GPUs; it
     checks itself against the CPU at run time, and has never been timed on one.
     Tensors have up to 6 dimensions of up to 2^31 - 1.
   ============================================================================================= */
