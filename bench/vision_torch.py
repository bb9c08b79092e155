"""The default recipe for a vision transformer in PyTorch, on ants_bees from dinov2_small: what
ft_finetune's deeper stage is compared with.

    python3 bench/vision_torch.py [SEED [THREADS [SIZE [EPOCHS]]]]

A head on the frozen class token (30 epochs, AdamW 2e-3, batch 32), then all layers: 6 epochs, batch 16,
AdamW 1e-4 with a rate that rises over the first tenth of the steps, then falls to 0 as a cosine, smaller
by 0.75 with each layer below the head; decay 0.05 of matrices only; pictures are shifted by up to a tenth,
mirrored at the edges. SIZE: pixels of a side (224; cut from 256 / 224 of that). Needs FINETUNE_DATA,
torch, transformers, pillow and numpy.
"""
import math
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image

DATA = Path(os.environ["FINETUNE_DATA"])
SEED, THREADS, SIZE, EPOCHS = [int(v) for v in sys.argv[1:5]] + [1, 1, 224, 6][len(sys.argv) - 1:]
LAYERS = 12
torch.manual_seed(SEED)
random.seed(SEED)
torch.set_num_threads(THREADS)
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
net = hf.Dinov2Model.from_pretrained(DATA / "weights/dinov2_small", dtype=torch.float32).eval()
head = torch.nn.Linear(384, 2)


def load(part):
    pictures, labels = [], []
    edge = (SIZE * 256 + 112) // 224
    for label, kind in enumerate(("ants", "bees")):
        for path in sorted((DATA / "images/ants_bees" / part / kind).iterdir()):
            picture = Image.open(path).convert("RGB")
            w, h = picture.size
            sides = (edge, edge * h // w) if w <= h else (edge * w // h, edge)
            pictures.append(np.asarray(picture.resize(sides, Image.BICUBIC)))
            labels.append(label)
    return pictures, torch.tensor(labels)


def inside(start, size):
    """Places [start, start + SIZE) of a side, mirrored at its ends."""
    at = np.abs(np.arange(start, start + SIZE)) % (2 * (size - 1))
    return np.where(at < size, at, 2 * (size - 1) - at)


def cut(picture, dx=0, dy=0):
    h, w = picture.shape[:2]
    rows, columns = inside(round((h - SIZE) / 2) + dy, h), inside(round((w - SIZE) / 2) + dx, w)
    window = torch.from_numpy(picture[rows][:, columns]).permute(2, 0, 1)
    return (window.float() / 255 - MEAN) / STD


def tokens(pictures):
    return net(torch.stack(pictures)).last_hidden_state[:, 0]


def frozen(pictures):
    with torch.no_grad():
        return torch.cat([tokens([cut(p) for p in pictures[i:i + 16]]) for i in range(0, len(pictures), 16)])


def right(features, labels):
    return f"{int((head(features).argmax(1) == labels).sum())} of {len(labels)}"


def step(optimizer, features, labels):
    loss = torch.nn.functional.cross_entropy(head(features), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def groups():
    """A group for each parameter: its share of the rate, and its decay."""
    named = [("head." + n, p) for n, p in head.named_parameters()]
    for name, p in [*net.named_parameters(), *named]:
        layer = -1 if name.startswith("embeddings") else LAYERS
        if name.startswith("encoder.layer."):
            layer = int(name.split(".")[2])
        matrix = p.dim() > 1 and not (p.dim() == 3 and p.shape[0] == 1)
        if "mask_token" not in name:
            yield {"params": [p], "share": 0.75 ** (LAYERS - layer), "weight_decay": 0.05 if matrix else 0.0}


train, train_labels = load("train")
val, val_labels = load("val")
features, measured = frozen(train), frozen(val)
optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=0.01)
for epoch in range(30):
    for batch in torch.randperm(len(train)).split(32):
        step(optimizer, features[batch], train_labels[batch])
print(f"seed {SEED}, head: {right(measured, val_labels)}", flush=True)

optimizer = torch.optim.AdamW(list(groups()), 1e-4)
steps = EPOCHS * math.ceil(len(train) / 16)
rising, at, shift, start = steps // 10, 0, SIZE // 10, time.time()
for epoch in range(EPOCHS):
    total = 0
    for batch in torch.randperm(len(train)).split(16):
        rate = (at + 1) / rising if at < rising else (
            1 + math.cos(math.pi * (at - rising) / (steps - rising))) / 2
        for group in optimizer.param_groups:
            group["lr"] = 1e-4 * rate * group["share"]
        views = [cut(train[i], *(random.randint(-shift, shift) for _ in range(2))) for i in batch]
        total += step(optimizer, tokens(views), train_labels[batch]) * len(batch)
        at += 1
    print(f"epoch {epoch}: loss {total / len(train):.4f}, {time.time() - start:.0f} s", flush=True)
print(f"seed {SEED}, all layers: {right(frozen(val), val_labels)}")
