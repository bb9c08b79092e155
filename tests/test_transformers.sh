#!/bin/sh
# transformers loads the files that test_decoders saved, with strict=True, and gives the same logits (test-long).
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import transformers' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with transformers"
    echo "test_transformers: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python tests/transformers_saved.py
