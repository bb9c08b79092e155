#!/bin/sh
# PEFT opens the adapters that test_encoders and test_decoders wrote, and gives the logits that it gave (test-long).
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import peft, transformers' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with peft and transformers"
    echo "test_peft: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python tests/peft_logits.py
