"""PyTorch's files and back (test_torch.sh runs this in test-long, where PyTorch is installed).

torchvision's resnet18, resnet34 and resnet50 with batch norm statistics and scales drawn so that
logits are of order 1, saved by torch.save in several ways, must load by name and give the same
logits; the file that finetune.h writes must load with strict=True and give them again. Then a whole
training by the tool on real pictures, where FINETUNE_DATA is there.
"""
import json
import os
import subprocess

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from checks import check, finish, skip

BUILD = "build/torch"
LOGITS = f"{BUILD}/torch_logits"


def near_one(model, x):
    """Statistics of the batch itself, scales near 1: logits of order 1 that differ."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.8, 1.2)
            nn.init.uniform_(m.bias, -0.2, 0.2)
            m.momentum = None
    model.train()
    with torch.no_grad():
        model(x)
    model.eval()
    with torch.no_grad():
        logits = model(x)
    assert logits.std() > 0.05 and (logits[0] - logits[1]).abs().max() > 0.05
    return logits


def ours(model_path, x, saved=None):
    save_file({"input": x}, f"{BUILD}/in.safetensors")
    command = [LOGITS, model_path, f"{BUILD}/in.safetensors", f"{BUILD}/out.bin"]
    run = subprocess.run(command + ([saved] if saved else []), capture_output=True, text=True)
    if run.returncode:
        print(model_path, run.stdout, run.stderr)
        return None
    return torch.from_numpy(np.fromfile(f"{BUILD}/out.bin", np.float32).reshape(len(x), -1))


def same(a, b, tolerance=1e-4):
    return a is not None and a.shape == b.shape and \
        bool(((a - b).abs().max() <= tolerance * b.abs().max()).item())


def test_network(name):
    torch.manual_seed(3)
    model = getattr(models, name)(num_classes=7)
    x = torch.randn(3, 3, 224, 224)
    want = near_one(model, x)
    forms = {"state_dict": model.state_dict(),
             "checkpoint": {"epoch": 3, "state_dict": model.state_dict(), "best": 0.5},
             "module": {f"module.{k}": v for k, v in model.state_dict().items()}}
    for form, content in forms.items():
        path, saved = f"{BUILD}/{name}_{form}.pth", f"{BUILD}/{name}_{form}.safetensors"
        torch.save(content, path)
        got = ours(path, x, saved)
        check(same(got, want), f"{name} as {form}: other logits")
        if got is None:
            continue
        again = getattr(models, name)(num_classes=7)
        again.load_state_dict(load_file(saved), strict=True)
        again.eval()
        with torch.no_grad():
            check(same(again(x), want), f"{name} as {form}: written, and other logits in PyTorch")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(halves, f"{BUILD}/half.pt")
    model.load_state_dict(halves)
    with torch.no_grad():
        check(same(ours(f"{BUILD}/half.pt", x), model(x)), f"{name} in half precision")


def test_tool():
    data = os.environ.get("FINETUNE_DATA", "../shared/data")
    if not os.path.isdir(f"{data}/images/ants_bees"):
        skip()
        return
    out = f"{BUILD}/mine.safetensors"
    run = subprocess.run(["build/finetune", "train", "--model",
                          f"{data}/weights/resnet18_imagenet.safetensors", "--data",
                          f"{data}/images/ants_bees/train", "--out", out, "--json"],
                         capture_output=True, text=True)
    check(run.returncode == 0 and json.loads(run.stdout)["out"] == out, run.stderr)
    model = models.resnet18(num_classes=2)
    model.load_state_dict(load_file(out), strict=True)
    model.eval()
    x = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        check(same(ours(out, x), model(x)), "the trained file: other logits in PyTorch")
    check_numpy(out)


def check_numpy(path):
    """The tool's .npz of a model opens in NumPy, with sound checksums, the same numbers and the metadata."""
    out = f"{BUILD}/mine.npz"
    run = subprocess.run(["build/finetune", "convert", "--tensors", "--model", path, "--out", out], capture_output=True,
                         text=True)
    tensors = load_file(path)
    with np.load(out) as arrays:
        check(run.returncode == 0 and set(arrays.files) == set(tensors) | {"__metadata__"}, f"{out}: {run.stderr}")
        check(all(np.array_equal(arrays[k], tensors[k].numpy()) for k in tensors), f"{out}: other numbers")
        check("finetune" in json.loads(bytes(arrays["__metadata__"])), f"{out}: no description of the network")
        check(arrays.zip.testzip() is None, f"{out}: a checksum is wrong")


def main():
    for name in ("resnet18", "resnet34", "resnet50"):
        test_network(name)
    test_tool()
    finish("test_torch")


main()
