#!/bin/sh
# PyTorch's files and back, with PyTorch itself: only where it is installed, and with LONG=1.
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import torch, torchvision, safetensors' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with torch, torchvision and safetensors"
    echo "test_torch: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build/torch
${CC:-cc} -std=c99 -O2 -I. tests/torch_logits.c -o build/torch/torch_logits -lm -pthread || exit 1
exec $python tests/torch_round_trip.py
