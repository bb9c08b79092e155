#pragma once

/* =============================================================================================
   [SECTION] interface/manual: Manual

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

   TEXT
     A tokeniser turns a text into numbers (ft_tokenizer_load, or ft_tokenizer_build from texts);
     the model file carries it. ft_texts reads labelled texts, ft_text_streams a text for a language
     model. Networks that read text have an I32 input "tokens" [N, FT_LENGTH] and, to classify,
     "lengths" [N]; examples/text_classifier.c and examples/char_rnn.c build both kinds.

   OWNERSHIP
     The model owns its nodes, its data sources and its plans; ft_destroy frees them all. What a
     function returns as a pointer belongs to the model or to the object that it was asked of. An
     ft_file is closed by ft_file_close, before the model is destroyed.

   ERRORS
     The first error sticks to the model: from then on every call returns at once, so that one look
     at ft_error(m) at the end is enough. ft_error_text says what, where, and what was expected.
     ft_clear_error starts anew; after FT_NOT_FINITE in ft_fit the weights are those of the last
     good epoch, and after an error of a device too: it is given up then, and the processor goes
     on. The loop by hand keeps no copy: ft_update refuses gradients that are not finite, but what
     a rate far too high made of the weights stays; ft_get and ft_set keep and restore them.
     A NULL model, for which there was no memory at all, is accepted by ft_error, ft_error_text,
     ft_clear_error and ft_destroy only.
     An option that does nothing where it is set (momentum of Adam) is an error too, FT_INVALID; a
     pattern that matches no name, and a name that ft_find does not find, are told with the nearest
     one that there is: the pattern in the log, the name where the {0} that came of it is used.
     The library never aborts, exits, prints or raises a signal.

   THREADS
     A model is used by one thread at a time, different models by different threads at once. Inside,
     a model has ft_desc.threads threads of its own, or calls ft_desc.parallel_for. A data source's
     get() is called by several threads.

   DEVICES
     ft_desc.device names an OpenCL device (ft_devices lists them). Before an operator runs there
     for a shape, its kernels are compared with the processor on a sample of two and, with
     ft_desc.clock, timed: what is wrong, or on a GPU slower, runs on the processor, and the log
     says so. With a clock a GPU's matrix products are tried with several sizes of tiles for a
     second. The choices go into the checkpoint. Every operator has kernels: where all of them suit
     the device, only the batch and the loss move in a training step. The host keeps as much memory
     as the device.

   DETERMINISM
     The same machine, SIMD level and seed give the same bits, whatever the number of threads. A
     sample's prediction does not depend on the batch that it is in. A run that was killed and is
     started again with the same options and its checkpoint ends with the same bytes.

   MEMORY
     Nothing is allocated in a training step after the first. ft_plan tells what a run will take;
     ft_desc.memory_budget is kept: values that do not fit are dropped and made again in
     backward, to the same bits; where even that does not fit, FT_MEMORY. A device's memory counts
     too, and nothing is made again there. All memory of the host can come from the caller's
     allocator or from one block (ft_desc.arena).

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
     FINETUNE_NO_KERAS_CNN     ... the small CNN of Keras,
     FINETUNE_NO_RECURRENT     ... the recurrent networks over text,
     FINETUNE_NO_TEXT          ... tokenisers, texts as data, their recipe, and generation: their
                               functions are there and say so
     FINETUNE_OPENCL           ft_desc.device may name an OpenCL device; needs kernels.cl beside the
                              header and CL/cl.h to compile, nothing to link (-ldl before glibc
                              2.34), and starts where there is no OpenCL
     FINETUNE_API              before each public function; default: extern

   PRECISION
     Everything is float32, and by default so are the products. ft_desc.precision "bf16" rounds both
     factors in convolutions (not grouped ones) and linear layers, forward and backward, to bf16,
     after Winograd's transforms where those are used (3x3 kernels), and sums in float32: faster
     with AVX512_BF16, and an error, FT_UNSUPPORTED, without it; "bf16_emulated" gives the same
     bits anywhere, slowly. Files hold float32 either way; a checkpoint is continued with the
     precision that it was begun with.
     On a GPU of NVIDIA's from compute capability 8.0 on, "tf32" and "bf16" round the factors to 11
     or 8 bits for its tensor cores, where those are the fastest and are right: within 0.4 and 3.2
     percent of the largest value. Other devices compute float32, and the log says so.

   LIMITS
     Float32: pictures, vectors, sequences. ONNX is not there yet. OpenCL was run on PoCL and
     Oclgrind only; GPUs are written for and checked when they run, and none has been measured.
     Tensors have up to 6 dimensions of up to 2^31 - 1.
   ============================================================================================= */
