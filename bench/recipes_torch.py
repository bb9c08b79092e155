"""Recipes for fine-tuning that other libraries document, in PyTorch: one line of JSON.

    recipes_torch.py tutorial|fastai|keras resnet18|resnet20 WEIGHTS TRAIN VAL SEED THREADS

Rates, epochs and augmentation are those of these pages:
  tutorial  docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, "Finetuning the
            ConvNet": all layers at once, SGD 1e-3 with momentum 0.9, times 0.1 every 7 epochs,
            25 epochs, batches of 4; RandomResizedCrop, RandomHorizontalFlip. The page keeps the
            epoch that is best on the pictures that it is scored on; here the last one counts.
  fastai    docs.fast.ai/callback.schedule.html#learner.fine_tune, .../vision.learner.html,
            .../vision.augment.html#aug_transforms and chapter 2 of fastbook, which trains a
            ResNet-18 on 150 pictures a class: fine_tune(4), base_lr 2e-3, RandomResizedCrop with
            min_scale 0.5 and aug_transforms(). Batches of 64, or of all pictures if there are
            fewer: with fewer fastai would train on none.
  keras     keras.io/guides/transfer_learning: a head with dropout 0.2 on the frozen network, Adam
            1e-3, 20 epochs, then all layers, Adam 1e-5, 10 epochs; batch norms as in evaluation
            throughout, batches of 32; RandomFlip, RandomRotation(0.1); pictures are resized to a
            square. The pages of today have fewer epochs so that they are built quickly.
The warp and the lighting of aug_transforms are torchvision's RandomPerspective and ColorJitter of
the same size. Nothing is chosen on VAL, which is scored once, at the end.
"""
import json
import math
import os
import sys
import time

RECIPE, NETWORK, WEIGHTS, TRAIN, VAL, SEED, THREADS = sys.argv[1:8]
os.environ["OMP_NUM_THREADS"] = THREADS

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

SIZE = {"resnet18": 224, "resnet20": 32}[NETWORK]
NORMAL = [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


class Block(nn.Module):
    """Of He et al.'s networks for CIFAR-10, with shortcuts without weights (option A)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


def network():
    """The pretrained network without pooling and head, its features, and the parts of a body."""
    weights = load_file(WEIGHTS)
    if NETWORK == "resnet18":
        net = resnet18()
        net.load_state_dict(weights)
        body = nn.Sequential(*list(net.children())[:-2])
        return body, 512, [body[:6], body[6:]]
    body = nn.Sequential()
    body.add_module("conv1", nn.Conv2d(3, 16, 3, 1, 1, bias=False))
    body.add_module("bn1", nn.BatchNorm2d(16))
    body.add_module("relu", nn.ReLU())
    for i, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        body.add_module(f"layer{i}", nn.Sequential(Block(inputs, outputs, 1 + (i > 1)),
                                                   Block(outputs, outputs, 1),
                                                   Block(outputs, outputs, 1)))
    body.load_state_dict({k: v for k, v in weights.items() if not k.startswith("linear.")})
    return body, 64, [body]


class Pictures(Dataset):
    """A folder's pictures, each decoded once."""

    def __init__(self, folder, change):
        self.folder, self.change, self.kept = ImageFolder(folder), change, {}

    def __len__(self):
        return len(self.folder)

    def __getitem__(self, i):
        if i not in self.kept:
            self.kept[i] = self.folder[i]
        picture, label = self.kept[i]
        return self.change(picture), label


def epoch(net, loader, optimizer, before=None):
    for x, y in loader:
        if before:
            before()
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def plain():
    """The network's own preprocessing."""
    return T.Compose([*([T.Resize(256)] if SIZE == 224 else [T.Resize((SIZE, SIZE))]),
                      T.CenterCrop(SIZE), *NORMAL])


def tutorial():
    data = Pictures(TRAIN, T.Compose([T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(),
                                      *NORMAL]))
    body, features, _ = network()
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(features, len(data.folder.classes)))
    sgd = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    steps = torch.optim.lr_scheduler.StepLR(sgd, 7, 0.1)
    loader = DataLoader(data, 4, shuffle=True)
    for _ in range(25):
        epoch(net.train(), loader, sgd)
        steps.step()
    return net, plain()


class ConcatPool(nn.Module):
    def forward(self, x):
        return torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1)


def one_cycle(net, loader, groups, rates, epochs, rise, div):
    """fastai's fit_one_cycle: its Adam, weight decay 0.01 of all but biases and batch norms."""
    rows = []
    for group, rate in zip(groups, rates):
        for decayed in (True, False):
            norms = {id(p) for m in group.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
                     for p in m.parameters()}
            rows.append({"params": [p for n, p in group.named_parameters()
                                    if (id(p) not in norms and not n.endswith("bias")) == decayed],
                         "lr": rate, "most": rate, "weight_decay": 0.01 if decayed else 0})
    adam = torch.optim.AdamW(rows, betas=(0.95, 0.99), eps=1e-5)
    steps, at = epochs * len(loader), 0

    def cosine(start, end, share):
        return start + (1 + math.cos(math.pi * (1 - share))) * (end - start) / 2

    def before():
        nonlocal at
        share = at / steps
        at += 1
        for row in adam.param_groups:
            most = row["most"]
            row["lr"] = (cosine(most / div, most, share / rise) if share < rise
                         else cosine(most, most / 1e5, (share - rise) / (1 - rise)))
            row["betas"] = ((cosine(0.95, 0.85, share / rise) if share < rise
                             else cosine(0.85, 0.95, (share - rise) / (1 - rise))), 0.99)

    for _ in range(epochs):
        epoch(net.train(), loader, adam, before)


def fastai():
    changes = [T.RandomResizedCrop(SIZE, (0.5, 1)), T.RandomHorizontalFlip(),
               T.RandomApply([T.RandomAffine(10, scale=(1, 1.1),
                                             interpolation=T.InterpolationMode.BILINEAR)], 0.75),
               T.RandomPerspective(0.2, 0.75), T.RandomApply([T.ColorJitter(0.2, 0.2)], 0.75)]
    data = Pictures(TRAIN, T.Compose(changes + NORMAL))
    loader = DataLoader(data, min(64, len(data)), shuffle=True, drop_last=True)
    body, features, parts = network()
    head = nn.Sequential(ConcatPool(), nn.Flatten(), nn.BatchNorm1d(2 * features), nn.Dropout(0.25),
                         nn.Linear(2 * features, 512, bias=False), nn.ReLU(), nn.BatchNorm1d(512),
                         nn.Dropout(0.5), nn.Linear(512, len(data.folder.classes), bias=False))
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    net, groups = nn.Sequential(body, head), [*parts, head]
    for module in body.modules():  # train_bn: batch norms are trained while the rest is frozen
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for p in module.parameters(recurse=False):
                p.requires_grad = False
    one_cycle(net, loader, groups, [2e-4] * len(parts) + [2e-3], 1, 0.99, 25)
    for p in body.parameters():
        p.requires_grad = True
    rates = [1e-3 / 100 ** (1 - i / len(parts)) for i in range(len(parts) + 1)]
    one_cycle(net, loader, groups, rates, 4, 0.3, 5)
    return net, plain()


def keras():
    square = T.Resize((SIZE, SIZE))
    turn = [T.RandomHorizontalFlip(), T.Pad(SIZE // 4, padding_mode="reflect"),
            T.RandomRotation(36, T.InterpolationMode.BILINEAR), T.CenterCrop(SIZE)]
    data = Pictures(TRAIN, T.Compose([square, *turn, *NORMAL]))
    loader = DataLoader(data, 32, shuffle=True)
    body, features, _ = network()
    head = nn.Linear(features, len(data.folder.classes))
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    dropout = nn.Dropout(0.2)
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout, head).eval()
    dropout.train()
    for p in body.parameters():
        p.requires_grad = False
    adam = torch.optim.Adam(head.parameters(), 1e-3, eps=1e-7)
    for _ in range(20):
        epoch(net, loader, adam)
    for p in body.parameters():
        p.requires_grad = True
    adam = torch.optim.Adam(net.parameters(), 1e-5, eps=1e-7)
    for _ in range(10):
        epoch(net, loader, adam)
    return net, T.Compose([square, *NORMAL])


def main():
    torch.set_num_threads(int(THREADS))
    torch.manual_seed(int(SEED))
    started = time.time()
    net, change = {"tutorial": tutorial, "fastai": fastai, "keras": keras}[RECIPE]()
    seconds, right, total = time.time() - started, 0, 0
    net.eval()
    with torch.no_grad():
        for x, y in DataLoader(ImageFolder(VAL, change), 32):
            right += (net(x).argmax(1) == y).sum().item()
            total += len(y)
    print(json.dumps({"right": right, "total": total, "seconds": round(seconds, 1)}))


main()
