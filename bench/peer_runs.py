"""bench_runs.c's work in PyTorch, as its tutorials do it: one line of JSON.

    peer_runs.py start|head|head_views MODEL TRAIN VAL THREADS

The frozen network runs in each epoch, in evaluation form and without gradients; two processes load
the pictures. The time ends with the training; the pictures of VAL are scored after it.
"""
import json
import os
import resource
import sys
import time

STARTED = time.time()
WORK, MODEL, TRAIN, VAL, THREADS = sys.argv[1:6]
os.environ["OMP_NUM_THREADS"] = THREADS

import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18


def score(net, normal):
    plain = T.Compose([T.Resize(256), T.CenterCrop(224), *normal])
    right = 0
    with torch.no_grad():
        for x, y in DataLoader(ImageFolder(VAL, plain), 32):
            right += (net(x.to(memory_format=torch.channels_last)).argmax(1) == y).sum().item()
    return right


def main():
    torch.set_num_threads(int(THREADS))
    torch.manual_seed(1)
    net = resnet18()
    net.load_state_dict(load_file(MODEL))
    net = net.to(memory_format=torch.channels_last)
    if WORK == "start":
        torch.optim.Adam(net.parameters(), 2e-3)
        return time.time() - STARTED, 0
    for p in net.parameters():
        p.requires_grad = False
    net.fc = nn.Linear(512, 2)
    normal = [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    cut = ([T.RandomResizedCrop(224, (0.5, 1))] if WORK == "head_views"
           else [T.Resize(256), T.CenterCrop(224)])
    data = ImageFolder(TRAIN, T.Compose(cut + normal))
    loader = DataLoader(data, 32, shuffle=True, num_workers=2)
    adam = torch.optim.AdamW(net.fc.parameters(), 2e-3, weight_decay=0.01)
    net.eval()
    for _ in range(10):
        for x, y in loader:
            with torch.no_grad():
                head, net.fc = net.fc, nn.Identity()
                features = net(x.to(memory_format=torch.channels_last))
                net.fc = head
            adam.zero_grad()
            nn.functional.cross_entropy(net.fc(features), y).backward()
            adam.step()
    return time.time() - STARTED, score(net, normal)


if __name__ == "__main__":
    seconds, right = main()
    print(json.dumps({"work": WORK, "seconds": round(seconds, 3), "right": right,
                      "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
