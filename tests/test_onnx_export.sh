#!/bin/sh
# Networks that torch.onnx exports, and real ONNX files, beside PyTorch and ONNX Runtime (test-long). A name
# after it: only that network.
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import onnxscript, torchvision, transformers' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with torchvision, transformers and onnxscript"
    echo "test_onnx_export: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build/onnx
${CC:-cc} -std=c99 -O2 -I. tests/onnx_run.c build/finetune.o -o build/onnx/onnx_run -lm -pthread || exit 1
${CC:-cc} -std=c99 -O2 -DFINETUNE_IMPLEMENTATION -DFINETUNE_NO_WINOGRAD -I. tests/onnx_run.c -o build/onnx/onnx_run_plain -lm -pthread || exit 1
exec $python tests/onnx_export.py "$@"
