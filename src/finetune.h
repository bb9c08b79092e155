/* finetune.h - fine-tune pretrained networks in C: one header, no Python on the way in or out.

   In ONE C or C++ file of your program:

       #define STB_IMAGE_IMPLEMENTATION     (these two only if you read image files)
       #include <stb/stb_image.h>
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
*/
#ifndef FINETUNE_H
#define FINETUNE_H
#include "interface/manual.h"
#include "interface/requirements.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "interface/types.h"
#include "interface/operators.h"
#include "interface/training_types.h"
#include "interface/functions.h"
#include "interface/completions.h"

#ifdef __cplusplus
}
#endif
#endif /* FINETUNE_H */

/* ------------------------------------------------------------------------------------------------
   Stop here unless you want to change the library. Then change its parts in src/, one file for
   each [SECTION]: `make header` joins them into this file.
   --------------------------------------------------------------------------------------------- */
#if defined(FINETUNE_IMPLEMENTATION) && !defined(FINETUNE__IMPLEMENTED)
#define FINETUNE__IMPLEMENTED
#include "platform/families.h"
#include "platform/system.h"

/* clang -m32 by itself computes in the processor's old registers of 80 bits, and does not round to
   float where C says so, which the elementary functions rely on. */
#if defined(__clang__) && defined(__i386__) && !defined(__SSE2__)
#pragma clang attribute push(__attribute__((target("sse2"))), apply_to = function)
#define FT__SSE2_PUSHED
#endif

#ifdef __cplusplus
extern "C" {
#endif
#include "platform/formatting.h"
#include "platform/utf8.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/arrays.h"
#include "basics/inflate.h"
#include "basics/files.h"
#include "basics/saving.h"
#include "basics/json.h"
#include "basics/threads.h"
#include "basics/sorting.h"
#include "basics/folders.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"
#include "kernels/bf16.h"
#include "kernels/levels.h"
#include "kernels/lanes.h"
#include "kernels/stored.h"
#include "kernels/transpose.h"
#include "kernels/column_sums.h"
#include "kernels/convolution.h"
#include "kernels/depthwise.h"
#include "kernels/winograd.h"
#include "kernels/softmax.h"
#include "kernels/attention.h"
#include "kernels/row_norm.h"
#include "kernels/rotary.h"
#include "kernels/batch_norm.h"
#include "kernels/pooling.h"
#include "kernels/recurrent.h"
#include "nodes/operators.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "nodes/sharing.h"
#include "nodes/storage.h"
#include "nodes/initialisers.h"
#include "operators/table.h"
#include "operators/adding.h"
#include "operators/common.h"
#include "operators/activations.h"
#include "operators/more_activations.h"
#include "operators/softmax.h"
#include "operators/dropout.h"
#include "operators/convolution.h"
#include "operators/conv2d_rows.h"
#include "operators/conv2d_rows_weight.h"
#include "operators/conv2d_small.h"
#include "operators/conv2d_winograd.h"
#include "operators/conv2d_bf16.h"
#include "operators/conv2d.h"
#include "operators/conv1d.h"
#include "operators/linear.h"
#include "operators/batch_norm.h"
#include "operators/layer_norm.h"
#include "operators/group_norm.h"
#include "operators/pooling.h"
#include "operators/reshape.h"
#include "operators/arithmetic.h"
#include "operators/elementwise.h"
#include "operators/reduce.h"
#include "operators/custom.h"
#include "operators/concat.h"
#include "operators/taking.h"
#include "operators/pad_and_slice.h"
#include "operators/tile.h"
#include "operators/permute.h"
#include "operators/gather.h"
#include "operators/matmul.h"
#include "operators/losses.h"
#include "operators/linear_cross_entropy.h"
#include "operators/more_losses.h"
#include "operators/embedding.h"
#include "operators/positions.h"
#include "operators/step_pool.h"
#include "operators/attention.h"
#include "operators/recurrent.h"
#include "operators/recurrent_layers.h"
#include "operators/ctc_loss.h"
#include "operators/resize.h"
#include "operators/conv_transpose.h"
#include "operators/cumsum.h"
#include "operators/topk.h"
#include "operators/rows.h"
#include "optimizers/options.h"
#include "optimizers/adam.h"
#include "optimizers/other.h"
#include "optimizers/adafactor.h"
#include "optimizers/schedules.h"
#include "optimizers/embedding_rows.h"
#include "devices/device.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"
#include "devices/opencl_program.h"
#include "devices/opencl_kernels.h"
#include "devices/opencl_operators.h"
#include "devices/opencl_batch_norm.h"
#include "devices/opencl_shapes.h"
#include "devices/opencl_losses.h"
#include "devices/opencl_sequences.h"
#include "devices/opencl_attention.h"
#include "devices/opencl_recurrent.h"
#include "devices/opencl_dispatch.h"
#include "devices/opencl_samples.h"
#include "devices/opencl_update.h"
#include "devices/opencl.h"
#include "devices/opening.h"
#include "graph/layout.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/memory.h"
#include "graph/forward_backward.h"
#include "graph/decoding.h"
#include "graph/update.h"
#include "graph/settings.h"
#include "graph/groups.h"
#include "graph/surgery.h"
#include "graph/packing.h"
#include "graph/adapters.h"
#include "graph/merging.h"
#include "graph/building.h"
#include "graph/pair_loss.h"
#include "graph/losses.h"
#include "formats/readers.h"
#include "formats/safetensors.h"
#include "formats/zip.h"
#include "formats/pytorch.h"
#include "formats/checkpoints.h"
#include "formats/shards.h"
#include "formats/descriptions.h"
#include "formats/keras_nodes.h"
#include "formats/keras_layers.h"
#include "formats/keras_sequences.h"
#include "formats/keras_networks.h"
#include "formats/keras_variables.h"
#include "formats/keras_files.h"
#include "formats/onnx_file.h"
#include "formats/onnx_values.h"
#include "formats/onnx_folding.h"
#include "formats/onnx_making.h"
#include "formats/onnx_elements.h"
#include "formats/onnx_shapes.h"
#include "formats/onnx_layers.h"
#include "formats/onnx_recurrent.h"
#include "formats/onnx.h"
#include "formats/tensor_files.h"
#include "formats/position_tables.h"
#include "formats/weights.h"
#include "formats/graphs.h"
#include "formats/model_files.h"
#include "text/unicode.h"
#include "text/compatibility.h"
#include "text/normal_forms.h"
#include "text/split_patterns.h"
#include "text/text_steps.h"
#include "text/tokenizers.h"
#include "text/tokenizer_steps.h"
#include "text/pairs.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "text/sequences.h"
#include "text/chats.h"
#include "text/words.h"
#include "networks/images.h"
#include "networks/text.h"
#include "networks/regression.h"
#include "networks/encoders.h"
#include "networks/decoders.h"
#include "networks/vision_transformers.h"
#include "networks/recognition.h"
#include "networks/configs.h"
#include "networks/image_processors.h"
#include "networks/adapter_files.h"
#include "data/feature_files.h"
#include "data/resize.h"
#include "data/preprocessing.h"
#include "data/picture_changes.h"
#include "data/augmentation.h"
#include "data/image_headers.h"
#include "data/image_rows.h"
#include "data/image_damage.h"
#include "data/image_files.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/loader.h"
#include "data/image_samples.h"
#include "data/image_folders.h"
#include "data/pixels.h"
#include "data/tables.h"
#include "data/conll.h"
#include "data/text_pairs.h"
#include "data/texts.h"
#include "data/text_streams.h"
#include "data/completions.h"
#include "training/correlation.h"
#include "training/metrics.h"
#include "training/measures.h"
#include "training/paired.h"
#include "training/outcomes.h"
#include "training/entities.h"
#include "training/prefix_cache.h"
#include "training/resume.h"
#include "training/sample_weights.h"
#include "training/fit_metric.h"
#include "training/norm_momenta.h"
#include "training/fit_rates.h"
#include "training/averages.h"
#include "training/run_checkpoints.h"
#include "training/mixing.h"
#include "training/distinct_batches.h"
#include "training/fit.h"
#include "training/find_rate.h"
#include "training/evaluate.h"
#include "training/calibration.h"
#include "training/class_means.h"
#include "training/recipe.h"
#include "training/recipe_text.h"
#include "training/recalibrate.h"
#include "training/generate.h"
#include "training/embed.h"
#include "training/predict_words.h"
#include "public/models.h"
#include "public/running.h"
#include "public/sharing.h"
#include "public/sweep_state.h"
#include "public/sweep.h"

#ifdef __cplusplus
}
#endif
#ifdef FT__SSE2_PUSHED
#pragma clang attribute pop
#endif
#endif /* FINETUNE_IMPLEMENTATION */
