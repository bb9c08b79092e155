"""Makes nodes.safetensors and weighted.safetensors, for tests/test_nodes.c and tests/test_weighted.c.

    python3 tests/golden/make_nodes.py          (needs torch and safetensors from PyPI)

nodes.safetensors     a small residual network: its weights by name, "input", and for MODE "eval" (all
                      frozen) and "train" the value MODE/NODE and the gradient MODE/NODE.grad of each
                      node, by the mean cross-entropy with the labels 2, 0.
weighted.safetensors  losses of weighted samples and classes: CASE/x, CASE/t or CASE/labels, CASE/w (of
                      samples), CASE/c (of classes), the loss CASE/y and its gradient CASE/dx.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.manual_seed(16)


def nodes():
    conv1, bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    conv2, bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    fc = nn.Linear(4, 3)
    tensors = {"input": torch.randn(2, 3, 8, 8)}
    for name, layer in dict(conv1=conv1, bn1=bn1, conv2=conv2, bn2=bn2, fc=fc).items():
        for key, value in layer.state_dict().items():
            if key == "num_batches_tracked":
                continue
            if name[:2] == "bn":
                value.copy_(torch.rand(4) + 0.5 if key in ("weight", "running_var") else torch.randn(4) / 2)
            tensors[f"{name}.{key}"] = value.clone()
    for mode in ("eval", "train"):
        for bn in (bn1, bn2):
            bn.train(mode == "train")
        x = tensors["input"].clone().requires_grad_()
        seen = {"input": x}

        def keep(name, value):
            value.retain_grad()
            seen[name] = value
            return value

        a = keep("relu1", F.relu(keep("bn1", bn1(keep("conv1", conv1(x))))))
        a = keep("pool", F.max_pool2d(a, 2))
        b = keep("bn2", bn2(keep("conv2", conv2(a))))
        a = keep("relu2", F.relu(keep("sum", b + a)))
        a = keep("gap", F.adaptive_avg_pool2d(a, 1))
        a = keep("output", fc(a.flatten(1)))
        keep("loss", F.cross_entropy(a, torch.tensor([2, 0]))).backward()
        for name, value in seen.items():
            tensors[f"{mode}/{name}"] = value.detach().reshape(1) if name == "loss" else value.detach()
            tensors[f"{mode}/{name}.grad"] = value.grad.reshape(1) if name == "loss" else value.grad
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, f"{HERE}/nodes.safetensors")


def weighted():
    tensors = {}
    n, classes = 6, 4

    def case(name, loss_of, x, **more):
        x = x.requires_grad_()
        y = loss_of(x)
        y.backward()
        for key, value in dict(more, x=x, y=y.reshape(1), dx=x.grad).items():
            if value is not None:
                tensors[f"{name}/{key}"] = value.detach().to(torch.int32 if key == "labels" else torch.float32)

    def mean(each, w):
        return (each * w).sum() / w.sum()

    w = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
    c = torch.tensor([0.5, 2.0, 1.0, 4.0])
    labels = torch.tensor([1, 3, 0, 2, -100, 3])
    for s in (0.0, 0.1):
        case(f"classes{s}", lambda x: F.cross_entropy(x, labels, weight=c, label_smoothing=s),
             torch.randn(n, classes), labels=labels, c=c)
        kept = labels != -100

        def both(x, class_weights):  # by definition: PyTorch's own sums, each sample's times its weight
            each = F.cross_entropy(x, labels, weight=class_weights, label_smoothing=s, reduction="none")
            of = w if class_weights is None else w * class_weights[labels.clamp(min=0)]
            return (each * w)[kept].sum() / of[kept].sum()

        case(f"samples{s}", lambda x: both(x, None), torch.randn(n, classes), labels=labels, w=w)
        case(f"both{s}", lambda x: both(x, c), torch.randn(n, classes), labels=labels, w=w, c=c)
    steps = torch.tensor([[0, 3, -100], [1, 1, 2], [3, -100, -100], [2, 0, 1], [0, 0, 3], [2, 2, 2]])

    def of_steps(x):
        each = F.cross_entropy(x.transpose(1, 2), steps, weight=c, reduction="none")
        of = (w[:, None] * c[steps.clamp(min=0)])[steps != -100]
        return (each * w[:, None]).sum() / of.sum()

    case("steps", of_steps, torch.randn(n, 3, classes), labels=steps, w=w, c=c)
    t = torch.softmax(torch.randn(n, classes), 1)
    case("soft", lambda x: mean(F.cross_entropy(x, t, reduction="none"), w), torch.randn(n, classes), t=t, w=w)
    t01 = torch.rand(n, classes)
    case("binary", lambda x: mean(F.binary_cross_entropy_with_logits(x, t01, reduction="none").mean(1), w),
         torch.randn(n, classes), t=t01, w=w)
    target = torch.randn(n, classes)
    case("mse", lambda x: mean(F.mse_loss(x, target, reduction="none").mean(1), w), torch.randn(n, classes),
         t=target, w=w)
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, f"{HERE}/weighted.safetensors")


nodes()
weighted()
