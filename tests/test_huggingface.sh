#!/bin/sh
# The same ids as Hugging Face's tokenizers on every line of sst2 and rt-polarity: only where it and the
# data are there, and with LONG=1.
python=${PYTHON:-python3}
data=${FINETUNE_DATA:-../shared/data}
if [ -z "$LONG" ] || [ ! -d "$data/text/sst2" ] || ! $python -c 'import tokenizers' 2>/dev/null; then
    echo "skipped: needs LONG=1, a PYTHON with tokenizers, and $data/text"
    echo "test_huggingface: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build/huggingface
exec $python tests/hf_ids.py "$data" build/huggingface build/test_tokenizers
