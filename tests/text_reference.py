"""The figures that test_text_accuracy.c is held against: the same network on the same files, in PyTorch.

    text_reference.py DATA [SEEDS [FIRST]]      (needs torch from PyPI)

A word-level bidirectional LSTM classifies sst2's sentences from scratch: embedding 100, LSTM 128 in
each direction, the last, mean and largest step, dropout 0.5, AdamW 3e-3 in one cycle, weight decay
0.01, clip 1, 6 epochs of batches of 32.
"""
import collections
import sys

import torch
from torch import nn

torch.set_num_threads(2)
data = sys.argv[1]
seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def read(part):
    with open(f"{data}/text/sst2/{part}.tsv", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    return [(text.split(), int(label)) for text, label in rows]


train, dev = read("train"), read("dev")
counts = collections.Counter(word for words, _ in train for word in words)
kept = sorted((w for w in counts if counts[w] >= 2), key=lambda w: (-counts[w], w.encode()))
ids = {word: i + 3 for i, word in enumerate(kept)}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(ids) + 3, 100)
        self.lstm = nn.LSTM(100, 128, batch_first=True, bidirectional=True)
        self.head = nn.Linear(3 * 256, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.dropout(self.embedding(tokens)), lengths,
                                                   batch_first=True, enforce_sorted=False)
        packed, (hidden, _) = self.lstm(packed)
        x, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        real = (torch.arange(x.shape[1])[None] < lengths[:, None])[:, :, None]
        last = torch.cat([hidden[0], hidden[1]], 1)
        mean = (x * real).sum(1) / lengths[:, None]
        largest = x.masked_fill(~real, -1e9).amax(1)
        return self.head(self.dropout(torch.cat([last, mean, largest], 1)))


def batch_of(rows):
    lengths = torch.tensor([len(words) for words, _ in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, (words, _) in enumerate(rows):
        tokens[i, :len(words)] = torch.tensor([ids.get(w, 1) for w in words])
    return tokens, lengths, torch.tensor([label for _, label in rows])


def accuracy(seed, epochs=6):
    torch.manual_seed(seed)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01)
    steps = (len(train) + 31) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * steps,
                                                   cycle_momentum=False)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(train)).tolist()
        for at in range(0, len(train), 32):
            tokens, lengths, labels = batch_of([train[i] for i in order[at:at + 32]])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(tokens, lengths), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1)
            optimizer.step()
            schedule.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(dev), 64):
            tokens, lengths, labels = batch_of(dev[at:at + 64])
            right += int((model(tokens, lengths).argmax(1) == labels).sum())
    print(f"PyTorch, sst2 from scratch, seed {seed}: {right} of {len(dev)} right, "
          f"{100 * right / len(dev):.2f} %", flush=True)
    return right / len(dev)


first = int(sys.argv[3]) if len(sys.argv) > 3 else 1
mean = sum(accuracy(seed) for seed in range(first, first + seeds)) / seeds
print(f"PyTorch, sst2 from scratch: mean of {seeds} seeds {100 * mean:.2f} %")
