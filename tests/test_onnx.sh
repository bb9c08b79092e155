#!/bin/sh
# ONNX files that we write, in ONNX Runtime: only where it is installed, and with LONG=1.
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import numpy, onnx, onnxruntime' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with numpy, onnx and onnxruntime"
    echo "test_onnx: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
work=build/onnx_out
rm -rf $work && mkdir -p $work || exit 1
${CC:-cc} -std=c99 -O2 -I. tests/onnx_out.c -o $work/onnx_out -lm -pthread || exit 1
$work/onnx_out $work || exit 1
# Real weights, where they are.
weights=$FINETUNE_DATA/weights
for name in resnet18_imagenet.safetensors resnet20_cifar10.safetensors mobilenet_v1_025_224.safetensors dinov2_small minilm_l3 \
    stories260K.safetensors charrnn_shakespeare.safetensors; do
    [ -e "$weights/$name" ] && { $work/onnx_out $work "$weights/$name" "real_${name%.safetensors}" || exit 1; }
done
exec $python tests/onnx_files.py $work
