#!/bin/sh
# Keras' files and back, with Keras itself: only where it is installed, and with LONG=1.
python=${PYTHON:-python3}
export KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 # PyTorch's backend pads otherwise
if [ -z "$LONG" ] || ! $python -c 'import keras, tensorflow, safetensors' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with keras, tensorflow and safetensors"
    echo "test_with_keras: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python tests/keras_round_trip.py
