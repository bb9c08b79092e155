#!/usr/bin/env python3
"""Writes augmentation.safetensors: what torchvision makes of pictures, and what it draws.

    python3 tests/golden/make_augmentation.py          (torch, torchvision, safetensors, numpy)

in/PICTURE                 U8 [H, W, C]
PICTURE/KIND/SIZE          U8, changed by _apply_op of torchvision's policies, or, for hue, blur and flip,
                           by torchvision.transforms.functional
PICTURE/affine/A,S,X       U8: turned by A degrees, scaled by S, sheared by X degrees, bilinear
PICTURE/erase/I,J,H,W      U8
draws/NAME/LOW/HIGH        F32 [BINS], how many of DRAWS draws of a parameter fall into each part of
                           LOW to HIGH (the last holds HIGH itself)
sizes/NAME                 F32 [10, 31], the magnitudes of a policy's ten changes that have one
mix/x                      F32 [4, 3, 6, 8], a batch; mix/mixup/LAM and mix/cutmix/X1,Y1,X2,Y2: mixed
loss/...                   F32: logits [6, 5], labels, and for each share LAM of the own label the loss and
                           its gradient, with label smoothing 0.1 in loss/smoothed
"""
import os

import numpy as np
import safetensors.torch
import torch
from torchvision.transforms import InterpolationMode, RandomErasing, autoaugment, functional as F, transforms as T
from torchvision.transforms import v2

DRAWS, BINS = 20000, 16
torch.manual_seed(18)
random = np.random.default_rng(18)
tensors = {}


def picture(name, width, height, channels, low=0, high=256):
    pixels = random.integers(low, high, (height, width, channels), dtype=np.uint8)
    smooth = (np.add.outer(np.arange(height) * 5, np.arange(width) * 7) % 256).astype(np.uint8)
    pixels[height // 2:, :, 0] = smooth[height // 2:] // 2 + low
    tensors["in/" + name] = torch.from_numpy(pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


pictures = {"rgb": picture("rgb", 23, 17, 3), "grey": picture("grey", 19, 14, 1), "dull": picture("dull", 16, 21, 3, 60, 140),
            "tiny": picture("tiny", 2, 5, 3), "one": picture("one", 1, 1, 3)}
pictures["flat"] = torch.full((3, 6, 7), 77, dtype=torch.uint8)
tensors["in/flat"] = pictures["flat"].permute(1, 2, 0).contiguous()
SIZES = {"ShearX": (0.21, -0.83), "ShearY": (-0.19, 0.77), "TranslateX": (3, -6.9), "TranslateY": (2.4, -5),
         "Rotate": (11.3, -97.1), "Brightness": (0.63, -0.99), "Color": (0.63, -0.41), "Contrast": (0.87, -0.55),
         "Sharpness": (0.9, -0.72), "Posterize": (2, 4, 8), "Solarize": (255, 127.5, 0), "AutoContrast": (0,), "Equalize": (0,),
         "Identity": (0,)}


def add(name, image):
    tensors[name] = image.permute(1, 2, 0).contiguous()


for name, image in pictures.items():
    for kind, sizes in SIZES.items():
        for size in sizes:
            add(f"{name}/{kind}/{size}", autoaugment._apply_op(image, kind, size, InterpolationMode.NEAREST, None))
    for shift in (0.13, -0.5, 0.5):
        add(f"{name}/hue/{shift}", F.adjust_hue(image, shift))
    for sigma in (0.1, 0.8, 1.9):
        if min(image.shape[1:]) > 6:
            add(f"{name}/blur/{sigma}", F.gaussian_blur(image, 13, sigma))
    add(f"{name}/flip/0", F.vflip(image))
    for angle, scale, shear in ((17.0, 0.85, 0.0), (-140.0, 1.25, 20.0), (0.0, 1.0, -35.0), (0.0, 0.7, 0.0)):
        add(f"{name}/affine/{angle},{scale},{shear}",
            F.affine(image, angle, [0, 0], scale, [shear, 0.0], InterpolationMode.BILINEAR))
add("rgb/erase/3,5,4,9", F.erase(pictures["rgb"], 3, 5, 4, 9, torch.tensor(0, dtype=torch.uint8)))

# ---- Draws ----
counts = {}


def note(name, low, high, value):
    key = f"draws/{name}/{low}/{high}"
    counts.setdefault(key, np.zeros(BINS, np.float32))
    counts[key][min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1


canvas = torch.zeros(3, 32, 48, dtype=torch.uint8)
calls = []
real, autoaugment._apply_op = autoaugment._apply_op, lambda image, kind, size, **rest: calls.append((kind, size)) or image
KINDS = list(autoaugment.TrivialAugmentWide()._augmentation_space(31))
trivial, rand = autoaugment.TrivialAugmentWide(), autoaugment.RandAugment()
largest = {k: float(v.abs().max()) for k, (v, _) in trivial._augmentation_space(31).items()}
mixers = {alpha: (v2.MixUp(alpha=alpha, num_classes=2), v2.CutMix(alpha=alpha, num_classes=2)) for alpha in (0.2, 1.0, 4.0)}
for _ in range(DRAWS):
    i, j, h, w = T.RandomResizedCrop.get_params(canvas, [0.25, 1.0], [3 / 4, 4 / 3])
    for name, high, value in (("top", 32, i), ("left", 48, j), ("height", 32, h), ("width", 48, w)):
        note("crop_" + name, 0, high, value)
    i, j, h, w, _v = RandomErasing.get_params(canvas, (0.02, 0.33), (0.3, 3.3), [0.0])
    for name, high, value in (("top", 32, i), ("left", 48, j), ("height", 32, h), ("width", 48, w)):
        note("erase_" + name, 0, high, value)
    angle, _, scale, (shear, _) = T.RandomAffine.get_params([-30.0, 30.0], None, [0.8, 1.2], [-10.0, 10.0], [48, 32])
    note("angle", -30, 30, angle)
    note("scale", 0.8, 1.2, scale)
    note("shear", -10, 10, shear)
    order, b, c, s, hue = T.ColorJitter.get_params([0.6, 1.4], [0.5, 1.5], [0, 2.5], [-0.1, 0.1])
    for name, low, high, value in (("brightness", 0.6, 1.4, b), ("contrast", 0.5, 1.5, c), ("saturation", 0, 2.5, s),
                                   ("hue", -0.1, 0.1, hue)):
        note(name, low, high, value)
    for place in range(4):
        note(f"order_{place}", 0, 16, int(order[place]))
    note("sigma", 0.1, 2, T.GaussianBlur.get_params(0.1, 2.0))
    calls.clear()
    trivial(canvas)
    kind, size = calls[0]
    note("trivial_kind", 0, 16, KINDS.index(kind))
    if kind in KINDS[1:10]:
        note("trivial_signed", -1, 1, size / largest[kind])
    if kind in ("Posterize", "Solarize"):
        note("trivial_" + kind.lower(), 0, 256 if kind == "Solarize" else 16, size)
    calls.clear()
    rand(canvas)
    note("rand_first", 0, 16, KINDS.index(calls[0][0]))
    note("rand_second", 0, 16, KINDS.index(calls[1][0]))
    for kind, size in calls:
        if kind in KINDS[1:10]:
            note("rand_sign", -1, 1, 0.5 if size > 0 else -0.5)
    for alpha, (mixup, cutmix) in mixers.items():
        note(f"lam_{alpha}", 0, 1, mixup.make_params([])["lam"])
        cut = cutmix.make_params([canvas])
        for name, high, value in zip(("left", "top", "right", "bottom"), (48, 32, 48, 32), cut["box"]):
            note(f"cut_{name}_{alpha}", 0, high, value)
        note(f"cut_lam_{alpha}", 0, 1, cut["lam_adjusted"])
tensors.update({name: torch.from_numpy(count) for name, count in counts.items()})
for name, space in (("trivial", trivial._augmentation_space(31)), ("rand", rand._augmentation_space(31, (32, 48)))):
    tensors[f"sizes/{name}"] = torch.stack([v.float() for v, _ in space.values() if v.ndim > 0]).contiguous()[:11]

# ---- Batches ----
x = torch.randn(4, 3, 6, 8)
tensors["mix/x"] = x
mixup, cutmix = mixers[1.0]
labels = torch.tensor([0, 1, 1, 0])
for lam in (0.3, 0.875):
    tensors[f"mix/mixup/{lam}"] = mixup.transform(x, {"lam": lam, "labels": labels, "batch_size": 4})
for box in ((2, 1, 7, 5), (0, 0, 3, 6), (4, 4, 4, 4)):
    tensors["mix/cutmix/" + ",".join(map(str, box))] = cutmix.transform(x, {"box": box, "labels": labels, "batch_size": 4})

logits = torch.randn(6, 5) * 2
labels = torch.tensor([4, 0, 2, 2, 1, 3])
tensors["loss/logits"], tensors["loss/labels"] = logits, labels.int()
for kind, smoothing in (("plain", 0.0), ("smoothed", 0.1)):
    for lam in (0.25, 0.6):
        z = logits.clone().requires_grad_()
        soft = v2.MixUp(num_classes=5)._mixup_label(labels, lam=lam)
        loss = torch.nn.functional.cross_entropy(z, soft, label_smoothing=smoothing)
        loss.backward()
        tensors[f"loss/{kind}/{lam}/loss"] = loss.detach().reshape(1)
        tensors[f"loss/{kind}/{lam}/gradient"] = z.grad

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "augmentation.safetensors")
safetensors.torch.save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out)
print(out, os.path.getsize(out), "bytes", len(tensors), "tensors")
