"""bench_gpu.c's training steps in PyTorch with CUDA.

    peer_gpu.py SECONDS

Each step copies its batch to the GPU and reads its loss. A line for each network in float32, and one
with tf32 allowed.
"""
import statistics
import sys
import time

import torch
from torch import nn

SECONDS = float(sys.argv[1])
WORDS, UNITS = 10000, 512


def basic_block(channels, outputs, stride):
    def conv(c, o, s):
        return nn.Sequential(nn.Conv2d(c, o, 3, s, 1, bias=False), nn.BatchNorm2d(o))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(conv(channels, outputs, stride), nn.ReLU(True),
                                      conv(outputs, outputs, 1))
            self.down = nn.Identity() if stride == 1 and channels == outputs else nn.Sequential(
                nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x):
            return torch.relu(self.body(x) + self.down(x))
    return Block()


def resnet18():  # torchvision's, which need not be there
    layers, channels = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
                        nn.MaxPool2d(3, 2, 1)], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [basic_block(channels, outputs, stride), basic_block(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, UNITS)
        self.lstm = nn.LSTM(UNITS, UNITS, 2, batch_first=True)
        self.fc = nn.Linear(UNITS, WORDS)
        self.state = None

    def forward(self, x):
        y, state = self.lstm(self.embedding(x), self.state)
        self.state = tuple(s.detach() for s in state)
        return self.fc(y).flatten(0, 1)


def measure(name, unit, net, x, labels, each):
    net, last = net.cuda().train(), None
    sgd = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    took = []
    begin = time.perf_counter()
    for step in range(2000):
        start = time.perf_counter()
        if step == 3:
            begin = start
        if step > 3 and start - begin > SECONDS:
            break
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(net(x.cuda()), labels.cuda())
        loss.backward()
        sgd.step()
        last = loss.item()
        if step >= 3:
            took.append(time.perf_counter() - start)
    half = statistics.median(took)
    print(f"| {name} | {1e3 * half:.2f} | {each / half:.0f} {unit}/s | {len(took)} steps, loss {last:.3f} |",
          flush=True)


def main():
    if not torch.cuda.is_available():
        print("skipped: PyTorch: it finds no GPU")
        sys.exit(1)
    torch.manual_seed(1)
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name(0)}:\n")
    print("| PyTorch | ms per step | per second | |\n| --- | --- | --- | --- |")
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        end = ", tf32" if tf32 else ""
        x = torch.rand(64, 3, 224, 224).contiguous(memory_format=torch.channels_last) * 2 - 1
        measure(f"ResNet-18, 224 x 224, batch 64{end}", "pictures",
                resnet18().to(memory_format=torch.channels_last), x, torch.arange(64) % 10, 64)
        ids = torch.arange(64 * 64).reshape(64, 64) * 7919 % WORDS
        measure(f"LSTM, 2 x 512, {WORDS} words, 64 x 64{end}", "words", Words(), ids,
                ((ids + 1) % WORDS).flatten(), 64 * 64)


main()
