#!/bin/sh
# PyTorch loads what test_vision_transformers saved, with nothing missing or left over, and gives the
# same logits; so does PEFT with its adapter (test-long).
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import peft, transformers' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with peft and transformers"
    echo "test_vision: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python tests/vision_logits.py
