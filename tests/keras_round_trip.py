"""Keras' files and back (test_with_keras.sh runs this in test-long, where Keras is installed).

Models with every layer that is mapped, weights drawn, are saved by Keras in each form; build/test_keras must give
their outputs before and after a step of Adam, and writes what the step made of them; Keras must load that and give
the outputs of its own step. Then each form is converted to each other form by the tool: Keras must load it, with
the same bits. Last, the tool trains a network of Keras' for other classes, and Keras must count as it does.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, "tests/golden")
import numpy as np
import keras
from keras import Input, Model, Sequential, layers as L
from safetensors.numpy import load_file

from checks import check, finish, skip
import make_keras

BUILD, TOOL = "build/keras", "build/finetune"


def run(*words):
    return subprocess.run(words, capture_output=True, text=True)


def more():
    """What make_keras has no golden of: dropout, which a step would draw, and weights that are frozen inside models
    inside models, which Keras' .h5 has after the others."""
    x = i = Input((8, 5))
    x = L.SpatialDropout1D(0.2)(L.Dropout(0.5)(x))
    x = L.LSTM(4, return_sequences=True, dropout=0.1)(x)
    x = L.Bidirectional(L.SimpleRNN(3, return_sequences=True), merge_mode="sum")(x)
    j = Input((8, 3))
    y = L.Dense(4, name="frozen", trainable=False)(L.BatchNormalization(name="norm")(j))
    inner = Model(j, L.Dense(3, use_bias=False)(L.BatchNormalization(trainable=False)(y)), name="inner")
    k = Input((8, 3))
    outer = Model(k, L.Softmax()(L.Conv1D(3, 1, name="conv")(inner(k))), name="outer")
    x = L.GRU(3)(outer(x))
    twice = Sequential([L.Dense(3, activation="hard_swish"), L.LeakyReLU()], name="twice")
    return Model(i, L.Dense(2)(twice(twice(x))))


def weights_of(model):
    return [w.numpy() for w in model.weights]


def outputs(model, expected):
    """Keras' outputs for the inputs of a golden, which have the channels first."""
    xs = []
    for t in model.inputs:
        name = next(n for n in (f"in/{t.name}", "in/tokens", "in/input") if n in expected)
        xs.append(np.moveaxis(expected[name], 1, -1) if expected[name].ndim == 4 else expected[name])
    y = np.asarray(keras.ops.convert_to_numpy(model(xs if len(xs) > 1 else xs[0], training=False)))
    return np.moveaxis(y, -1, 1) if y.ndim == 4 else y


def load(path, like):
    """A written file; weights alone go into the model of `like`, whose own become zeros first. Not compiled: Keras
    itself cannot read a .h5 that was compiled with the loss "mse"."""
    if not path.endswith(".weights.h5"):
        return keras.models.load_model(path, compile=path.startswith(f"{BUILD}/converted"))
    model = keras.models.load_model(like, compile=False)
    for w in model.weights:
        w.assign(w * 0)
    model.load_weights(path)
    return model


def check_step(name):
    """What build/test_keras wrote after its step."""
    expected = load_file(f"{BUILD}/{name}.safetensors")
    theirs = load(f"{BUILD}/{name}.after.weights.h5", f"{BUILD}/{name}.keras")
    largest = np.abs(expected["y_after"]).max()
    for form in ("weights.h5", "h5", "keras"):
        path = f"{BUILD}/{name}.ours.{form}"
        ours = load(path, f"{BUILD}/{name}.keras")
        worst = np.abs(outputs(ours, expected) - expected["y_after"]).max()
        check(worst <= 1e-3 * largest, f"{path}: outputs are off by {worst} of {largest}")
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            if not a.path.endswith("count"):
                worst = np.abs(a.numpy() - b.numpy()).max()
                check(worst <= 1e-3 * max(1, np.abs(b.numpy()).max()), f"{path}: {a.path} is off by {worst}")


def check_converted(source, like):
    """A file of Keras' in each form."""
    model = load(source, like)
    want, names = weights_of(model), [w.path.split("/")[-1] for w in model.weights]
    with_arch = ["--arch", like] if source.endswith(".weights.h5") else []
    of_h5 = source.endswith(".h5") and not with_arch
    for form in ("weights.h5", "h5", "keras"):
        path = f"{BUILD}/converted.{form}"
        if os.path.exists(path):
            os.remove(path)
        done = run(TOOL, "convert", "--model", source, *with_arch, "--out", path)
        if of_h5 and form == "keras":
            check(done.returncode == 1 and "config is that of a .h5" in done.stderr, f"{source}: {done.stderr}")
            continue
        check(done.returncode == 0, f"{source} to {form}: {done.stderr}")
        if done.returncode == 0:
            got = weights_of(load(path, like))
            same = [n == "count" or np.array_equal(a, b) for n, a, b in zip(names, got, want, strict=True)]
            check(all(same), f"{source} to {form}: {same.count(False)} weights differ")


def paths(path):
    """The datasets of layers in a file, and their shapes."""
    import h5py
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda n, o: found.__setitem__(n, o.shape) if hasattr(o, "shape") else None)
    return {n: s for n, s in found.items() if not n.startswith("optimizer")}


def check_training():
    """Pictures of 3 classes for a network of 5: the tool trains it and writes a file whose hits Keras counts too."""
    r = np.random.default_rng(5)
    y = r.integers(0, 3, 300)
    x = (r.normal(0, 1, (300, 8, 8, 1)) + np.cos(np.arange(8) * (y[:, None] + 1))[:, None, :, None]).astype("f4")
    np.savez(f"{BUILD}/data.npz", x=x, y=y, x_test=x[:100], y_test=y[:100])
    base = Sequential([Input((8, 8, 1)), L.Conv2D(8, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(),
                       L.Flatten(), L.Dropout(0.2), L.Dense(5, activation="softmax", name="head")])
    make_keras.draw(base, 3)
    for source in ("keras", "h5"):
        base.save(f"{BUILD}/base.{source}")
        for form in ("weights.h5", "h5", "keras")[:3 if source == "keras" else 2]:
            out = f"{BUILD}/trained.{form}"
            done = run(TOOL, "train", "--model", f"{BUILD}/base.{source}", "--data", f"{BUILD}/data.npz", "--epochs", "3",
                       "--freeze", "", "--out", out)
            check(done.returncode == 0, f"train {source} to {form}: {done.stderr[-300:]}")
            told = run(TOOL, "eval", "--model", out, "--data", f"{BUILD}/data.npz", "--json")
            check(told.returncode == 0, told.stderr)
            if done.returncode or told.returncode:
                continue
            like = f"{BUILD}/like.keras"
            small = Sequential.from_config({**base.get_config(), "layers": [
                {**l, "config": {**l["config"], "units": 3}} if l["class_name"] == "Dense" else l
                for l in base.get_config()["layers"]]})
            small.save(like)
            right = int((load(out, like).predict(x[:100], verbose=0).argmax(-1) == y[:100]).sum())
            want = json.loads(told.stdout)["correct"]
            check(right == want and right > 40, f"{out}: Keras has {right} right, eval {want}")


os.makedirs(BUILD, exist_ok=True)
names = sys.argv[1:] or [*make_keras.MODELS, "more"] # some of them, to look for a fault
for name in names:
    if name != "more":
        make_keras.make(BUILD, name)
done = run("build/test_keras", BUILD)
print(done.stdout, end="")
check(done.returncode == 0, "build/test_keras " + BUILD)
extra = more()
make_keras.draw(extra, 9)
extra.save(f"{BUILD}/more.keras")
extra.save(f"{BUILD}/more.h5")
extra.save_weights(f"{BUILD}/more.weights.h5")
for name in names:
    like = f"{BUILD}/{name}.keras"
    if name != "more":
        check_step(name)
    for form in ("keras", "h5", "weights.h5"):
        check_converted(f"{BUILD}/{name}.{form}", like)
    check(run(TOOL, "convert", "--model", like, "--out", f"{BUILD}/own.weights.h5").returncode == 0
          and paths(f"{BUILD}/own.weights.h5") == paths(f"{BUILD}/{name}.weights.h5"), f"{name}: other datasets than Keras'")
data = os.environ.get("FINETUNE_DATA", "../shared/data") + "/formats/fer"
if sys.argv[1:]:
    skip()
elif os.path.exists(data + ".keras"):
    for form in ("keras", "h5", "weights.h5"):
        check_converted(f"{data}.{form}", data + ".keras")
else:
    skip()
    print("skipped: no FINETUNE_DATA/formats/fer.keras")
check_training()
finish("test_with_keras")
