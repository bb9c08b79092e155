"""Makes tests/golden/metrics.txt for tests/test_internals.c: metrics by scikit-learn and scipy.

    python3 tests/golden/make_metrics.py    (needs scikit-learn and scipy)

A case is a line "case NAME classes|numbers SAMPLES COLUMNS", then a line of numbers for each sample (the
label and the probabilities, or the outputs and the targets), then a line "NAME value low high" for each
metric, "nan nan nan" where it is not defined (low and high alone: not drawn), and "end". Where classes are absent, areas and average
precisions are the means of scikit-learn's over the classes that have samples. Intervals: scipy's Wilson
interval, and percentiles of 500 draws.
"""
import os
import warnings

import numpy as np
import scipy.stats
import sklearn
from sklearn import metrics as sk

HERE = os.path.dirname(os.path.abspath(__file__))
warnings.simplefilter("ignore")
sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
rng = np.random.default_rng(7)
SHARES = {"accuracy", "top5", "precision_micro", "recall_micro", "f1_micro"}


def per_class(f, y, p):
    """The mean of f over each class against all others that has samples; of two classes, the second."""
    classes = [1] if p.shape[1] == 2 else [c for c in range(p.shape[1]) if (y == c).any()]
    found = [f((y == c).astype(int), p[:, c]) for c in classes
             if (y == c).any() and (f is not sk.roc_auc_score or (y != c).any())]
    return np.mean(found) if found else np.nan


def calibration_error(y, p):
    sure, right = p.max(1), p.argmax(1) == y
    bins = np.digitize(sure, np.arange(1, 15) / 15, right=True)
    return sum((bins == b).mean() * abs(right[bins == b].mean() - sure[bins == b].mean())
               for b in range(15) if (bins == b).any())


def of_classes(y, p):
    every, guess = list(range(p.shape[1])), p.argmax(1)
    found = {"accuracy": lambda: sk.accuracy_score(y, guess),
             "top5": lambda: sk.top_k_accuracy_score(y, p, k=5, labels=every) if len(every) > 5 else np.nan}
    for name, f in ("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score):
        for average in "macro", "micro", "weighted":
            found[name + "_" + average] = lambda f=f, average=average: f(y, guess, average=average, zero_division=0)
    found["roc_auc"] = lambda: per_class(sk.roc_auc_score, y, p)
    found["average_precision"] = lambda: per_class(sk.average_precision_score, y, p)
    found["kappa"] = lambda: sk.cohen_kappa_score(y, guess)
    found["mcc"] = lambda: sk.matthews_corrcoef(y, guess)
    found["calibration_error"] = lambda: calibration_error(y, p)
    found["log_loss"] = lambda: sk.log_loss(y, p, labels=every)
    return found


def of_numbers(target, output):
    one = output.shape[1] == 1 and np.ptp(target) > 0 and np.ptp(output) > 0
    a, b = output[:, 0], target[:, 0]
    return {"mae": lambda: sk.mean_absolute_error(target, output),
            "rmse": lambda: sk.root_mean_squared_error(target, output), "r2": lambda: sk.r2_score(target, output),
            "pearson": lambda: scipy.stats.pearsonr(a, b)[0] if one else np.nan,
            "spearman": lambda: scipy.stats.spearmanr(a, b)[0] if one else np.nan}


def write(to, name, f, truth, predicted, drawn=()):
    n, draws = len(truth), {key: [] for key in drawn}
    for _ in range(500 if drawn else 0):
        some = rng.integers(0, n, n)
        metrics = f(truth[some], predicted[some])
        for key in drawn:
            draws[key].append(metrics[key]())
    kind = "classes" if f is of_classes else "numbers"
    print("case", name, kind, n, predicted.shape[1], file=to)
    for t, p in zip(truth, predicted):
        print(*([t, *map(repr, map(float, p))] if f is of_classes else map(repr, map(float, [*p, *t]))), file=to)
    for key, metric in f(truth, predicted).items():
        v, low, high = metric(), np.nan, np.nan
        if key in SHARES and not np.isnan(v):
            low, high = scipy.stats.binomtest(round(v * n), n).proportion_ci(method="wilson")
        elif key in drawn:
            low, high = np.nanpercentile(draws[key], [2.5, 97.5])
        print(key, repr(float(v)), repr(float(low)), repr(float(high)), file=to)
    print("end", file=to)


def probabilities(y, classes, steps):
    """Near the labels, and on few levels, so that many are equal."""
    p = rng.integers(1, steps, (len(y), classes)).astype(float)
    p[np.arange(len(y)), y] += rng.integers(0, steps, len(y))
    return p / p.sum(1, keepdims=True)


with open(HERE + "/metrics.txt", "w") as to:
    y = rng.choice([0, 1, 1, 2, 3, 5, 6], 60)        # 4 is absent
    p = probabilities(y, 7, 4)
    p[:, 3] *= 0.2                                   # seldom guessed
    write(to, "many", of_classes, y, p / p.sum(1, keepdims=True),
          ["f1_macro", "recall_weighted", "mcc", "calibration_error"])
    y = rng.choice([0, 1, 1], 50)
    write(to, "two", of_classes, y, probabilities(y, 2, 5), ["roc_auc"])
    y = np.full(20, 1)
    write(to, "one_label", of_classes, y, probabilities(y, 3, 6))
    p = np.tile([0.2, 0.5, 0.3], (12, 1))            # all equal: every threshold is the same
    write(to, "constant", of_classes, np.arange(12) % 3, p)
    write(to, "one_everything", of_classes, np.full(5, 1), p[:5])
    y = np.arange(24) % 3
    write(to, "perfect", of_classes, y, np.eye(3)[y])
    target = np.round(rng.normal(size=(40, 1)), 1)   # with equal ones
    write(to, "number", of_numbers, target, np.round(target * 0.7 + rng.normal(size=(40, 1)) * 0.4 + 0.3, 1),
          ["mae", "r2", "pearson", "spearman"])
    target = rng.normal(size=(30, 3)) * [1, 5, 0.1]
    write(to, "numbers", of_numbers, target, target + rng.normal(size=(30, 3)) * [0.5, 1, 0.2])
    write(to, "constant_target", of_numbers, np.full((8, 1), 2.0), rng.normal(size=(8, 1)))
    rng = np.random.default_rng(8)                   # no two are equal: the bins of the calibration error differ
    y = rng.integers(0, 4, 60)
    write(to, "smooth", of_classes, y, rng.dirichlet([1, 1, 1, 1], 60) * 0.4 + 0.6 * rng.dirichlet([0.3] * 4, 60))
