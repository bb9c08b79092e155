#pragma once

/* =============================================================================================
   [SECTION] platform/families: What is compiled
   FINETUNE_NO_X leaves the family X out. FINETUNE_ONLY leaves out all but those of FINETUNE_USE_X.
   The manual lists them. FT__HAS_X is 1 or 0, and stands in plain conditions, not in #if, wherever
   it can: so all code is checked in every build, and the compiler drops what nothing reaches. A
   family is left out where it is entered: in its public functions (FT__HAS in nodes/nodes), in the
   rows of its operators (operators/rows) and of its networks (networks/recognition).
   ============================================================================================= */
#if defined(FINETUNE_NO_TRAINING) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_TRAINING))
#define FT__HAS_TRAINING 0
#else
#define FT__HAS_TRAINING 1
#endif
#if defined(FINETUNE_NO_DATA) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_DATA))
#define FT__HAS_DATA 0
#else
#define FT__HAS_DATA 1
#endif
#if defined(FINETUNE_NO_IMAGES) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_IMAGES))
#define FT__HAS_IMAGES 0
#else
#define FT__HAS_IMAGES 1
#endif
#if defined(FINETUNE_NO_TEXT) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_TEXT))
#define FT__HAS_TEXT 0
#else
#define FT__HAS_TEXT 1
#endif
#if defined(FINETUNE_NO_CONVOLUTION) \
    || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_CONVOLUTION))
#define FT__HAS_CONVOLUTION 0
#else
#define FT__HAS_CONVOLUTION 1
#endif
#if defined(FINETUNE_NO_DEPTHWISE) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_DEPTHWISE))
#define FT__HAS_DEPTHWISE 0
#else
#define FT__HAS_DEPTHWISE 1
#endif
#if defined(FINETUNE_NO_RECURRENT) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_RECURRENT))
#define FT__HAS_RECURRENT 0
#else
#define FT__HAS_RECURRENT 1
#endif
#if defined(FINETUNE_NO_ATTENTION) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_ATTENTION))
#define FT__HAS_ATTENTION 0
#else
#define FT__HAS_ATTENTION 1
#endif
#if defined(FINETUNE_NO_ARITHMETIC) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_ARITHMETIC))
#define FT__HAS_ARITHMETIC 0
#else
#define FT__HAS_ARITHMETIC 1
#endif
#if defined(FINETUNE_NO_RESNET) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_RESNET))
#define FT__HAS_RESNET 0
#else
#define FT__HAS_RESNET 1
#endif
#if defined(FINETUNE_NO_MOBILENET) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_MOBILENET))
#define FT__HAS_MOBILENET 0
#else
#define FT__HAS_MOBILENET 1
#endif
#if defined(FINETUNE_NO_KERAS_CNN) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_KERAS_CNN))
#define FT__HAS_KERAS_CNN 0
#else
#define FT__HAS_KERAS_CNN 1
#endif
#if defined(FINETUNE_NO_TRANSFORMERS) \
    || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_TRANSFORMERS))
#define FT__HAS_TRANSFORMERS 0
#else
#define FT__HAS_TRANSFORMERS 1
#endif
#if defined(FINETUNE_NO_PYTORCH) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_PYTORCH))
#define FT__HAS_PYTORCH 0
#else
#define FT__HAS_PYTORCH 1
#endif
#if defined(FINETUNE_NO_ONNX) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_ONNX))
#define FT__HAS_ONNX 0
#else
#define FT__HAS_ONNX 1
#endif
#if defined(FINETUNE_NO_KERAS) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_KERAS))
#define FT__HAS_KERAS 0
#else
#define FT__HAS_KERAS 1
#endif
#if defined(FINETUNE_NO_NUMPY) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_NUMPY))
#define FT__HAS_NUMPY 0
#else
#define FT__HAS_NUMPY 1
#endif
#if defined(FINETUNE_NO_TENSORFLOW) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_TENSORFLOW))
#define FT__HAS_TENSORFLOW 0
#else
#define FT__HAS_TENSORFLOW 1
#endif
#if defined(FINETUNE_NO_SAVING) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_SAVING))
#define FT__HAS_SAVING 0
#else
#define FT__HAS_SAVING 1
#endif
#if defined(FINETUNE_NO_SURGERY) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_SURGERY))
#define FT__HAS_SURGERY 0
#else
#define FT__HAS_SURGERY 1
#endif
#if defined(FINETUNE_NO_SHARING) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_SHARING))
#define FT__HAS_SHARING 0
#else
#define FT__HAS_SHARING 1
#endif
#if defined(FINETUNE_NO_STDIO) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_STDIO))
#define FT__HAS_STDIO 0
#else
#define FT__HAS_STDIO 1
#endif
#if defined(FINETUNE_NO_WINOGRAD) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_WINOGRAD))
#define FT__HAS_WINOGRAD 0
#else
#define FT__HAS_WINOGRAD 1
#endif
#if defined(FINETUNE_NO_BF16) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_BF16))
#define FT__HAS_BF16 0
#else
#define FT__HAS_BF16 1
#endif
#if defined(FINETUNE_NO_AVX512) || (defined(FINETUNE_ONLY) && !defined(FINETUNE_USE_AVX512))
#define FT__HAS_AVX512 0
#else
#define FT__HAS_AVX512 1
#endif

#ifdef FINETUNE_ONLY
#define FT__WITHOUT(family) "FINETUNE_ONLY without FINETUNE_USE_" #family
#else
#define FT__WITHOUT(family) "FINETUNE_NO_" #family
#endif

/* Functions in tables that only training, or only AVX-512, uses. */
#define FT__BACKWARD(function) (FT__HAS_TRAINING ? function : NULL)
#define FT__IF_AVX512(function) (FT__HAS_AVX512 ? function : NULL)

#if !defined(FINETUNE_ONLY) && (defined(FINETUNE_USE_TRAINING) || defined(FINETUNE_USE_DATA) \
    || defined(FINETUNE_USE_IMAGES) || defined(FINETUNE_USE_TEXT) \
    || defined(FINETUNE_USE_CONVOLUTION) || defined(FINETUNE_USE_DEPTHWISE) \
    || defined(FINETUNE_USE_RECURRENT) || defined(FINETUNE_USE_ATTENTION) \
    || defined(FINETUNE_USE_ARITHMETIC) || defined(FINETUNE_USE_RESNET) \
    || defined(FINETUNE_USE_MOBILENET) || defined(FINETUNE_USE_KERAS_CNN) \
    || defined(FINETUNE_USE_TRANSFORMERS) || defined(FINETUNE_USE_PYTORCH) \
    || defined(FINETUNE_USE_NUMPY) || defined(FINETUNE_USE_TENSORFLOW) \
    || defined(FINETUNE_USE_SAVING) || defined(FINETUNE_USE_ONNX) || defined(FINETUNE_USE_KERAS) \
    || defined(FINETUNE_USE_SURGERY) || defined(FINETUNE_USE_SHARING) \
    || defined(FINETUNE_USE_STDIO) || defined(FINETUNE_USE_WINOGRAD) \
    || defined(FINETUNE_USE_BF16) || defined(FINETUNE_USE_AVX512))
#error "FINETUNE_USE_... has no effect without FINETUNE_ONLY"
#endif
#if FT__HAS_DEPTHWISE && !FT__HAS_CONVOLUTION
#error "Depthwise convolutions need FINETUNE_USE_CONVOLUTION; or else FINETUNE_NO_DEPTHWISE"
#endif
#if FT__HAS_RESNET && !FT__HAS_CONVOLUTION
#error "ResNets need FINETUNE_USE_CONVOLUTION; or else FINETUNE_NO_RESNET"
#endif
#if FT__HAS_MOBILENET && !FT__HAS_CONVOLUTION
#error "MobileNet needs FINETUNE_USE_CONVOLUTION; or else FINETUNE_NO_MOBILENET"
#endif
#if FT__HAS_KERAS_CNN && !FT__HAS_CONVOLUTION
#error "Keras's CNN needs FINETUNE_USE_CONVOLUTION; or else FINETUNE_NO_KERAS_CNN"
#endif
#if FT__HAS_TRANSFORMERS && !(FT__HAS_ATTENTION && FT__HAS_ARITHMETIC)
#error "Transformers need FINETUNE_USE_ATTENTION, _ARITHMETIC; or else FINETUNE_NO_TRANSFORMERS"
#endif
#if FT__HAS_WINOGRAD && !FT__HAS_CONVOLUTION
#error "Winograd's form needs FINETUNE_USE_CONVOLUTION; or else FINETUNE_NO_WINOGRAD"
#endif
#if FT__HAS_MOBILENET && !FT__HAS_DEPTHWISE
#error "MobileNet needs FINETUNE_USE_DEPTHWISE; or else FINETUNE_NO_MOBILENET"
#endif
