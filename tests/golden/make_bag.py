"""Writes bag.safetensors, for test_golden.c, by scikit-learn: 60 texts as words with counts (start [61], word,
count), held [60] and labels of 2 and of 3 classes; weight, the TF-IDF of each count, with the frequencies of the
texts that are not held back; per number of classes K the logistic regression K/coef, K/intercept and K/right, of
how many held-back texts it says the class."""
import os

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS, WORDS = 60, 30


def main():
    random = np.random.default_rng(8)
    labels = {k: random.integers(0, k, TEXTS) for k in (2, 3)}
    rates = random.gamma(0.3, 1.0, (3, WORDS))
    counts = random.poisson(rates[labels[3]] + 0.5 * labels[2][:, None] * (np.arange(WORDS) < 5))
    counts[7] = 0  # a text without words
    table = csr_matrix(counts.astype(np.float64))
    held = (np.arange(TEXTS) % 3 == 1).astype(np.int32)
    tfidf = TfidfTransformer().fit(table[held == 0])
    rows = tfidf.transform(table)
    tensors = {"start": table.indptr.astype(np.int32), "word": table.indices.astype(np.int32),
               "count": table.data.astype(np.float32), "held": held, "weight": rows.data.astype(np.float32)}
    assert (rows.indices == table.indices).all()
    for k in (2, 3):
        model = LogisticRegression(tol=1e-10, max_iter=10000).fit(rows[held == 0], labels[k][held == 0])
        right = (model.predict(rows[held == 1]) == labels[k][held == 1]).sum()
        print(k, right, (held == 1).sum())
        tensors.update({f"{k}/labels": labels[k].astype(np.int32), f"{k}/coef": model.coef_.astype(np.float32),
                        f"{k}/intercept": model.intercept_.astype(np.float32),
                        f"{k}/right": np.array([right], np.int32)})
    save_file({key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in tensors.items()},
              f"{HERE}/bag.safetensors")


main()
