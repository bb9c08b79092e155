"""Entities in PyTorch and transformers by the recipe of `finetune train --task tokens`, to compare.

    ner_torch.py MODEL_FOLDER DATA_FOLDER [--seeds 1,2,3] [--epochs 5] [--lr 2e-4] [--batch 32]

DATA_FOLDER has train.conll, dev.conll and test.conll. BertForTokenClassification's network, without
dropout in attention: the label at the first piece of each word; AdamW, no decay of biases and norms,
a rate that rises over the first tenth of the steps, then falls to 0; gradients clipped to 1. Prints
the entity F1 of dev after each epoch, and of dev and test at the end, as seqeval counts: words that
were cut off count as O.
"""
import argparse
import os
import random
import time

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("--seeds", default="1,2,3")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--lr", type=float, default=2e-4)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--threads", type=int, default=1)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch
from transformers import AutoModel, AutoTokenizer

LONGEST = 512


def read(path):
    """Sentences of (words, tags); a line without a word ends one."""
    sentences, words, tags = [], [], []
    for line in open(path, encoding="utf-8").read().split("\n") + [""]:
        fields = line.split("\t")
        if fields[0].strip():
            words.append(fields[0])
            tags.append(fields[-1].strip())
        elif words:
            sentences.append((words, tags))
            words, tags = [], []
    return sentences


def entities(tags):
    """seqeval's get_entities for B- and I-: {(type, first, last)}"""
    found, kind, first = set(), None, 0
    for i, tag in enumerate(list(tags) + ["O"]):
        part, new = tag[0], tag[2:] or None
        if kind is not None and (part != "I" or new != kind):
            found.add((kind, first, i - 1))
            kind = None
        if kind is None and part != "O":
            kind, first = new, i
    return found


def f1(gold, guess):
    right = sum(len(entities(g) & entities(p)) for g, p in zip(gold, guess))
    total = sum(len(entities(g)) for g in gold) + sum(len(entities(p)) for p in guess)
    return 2 * right / total if total else 0.0


class Network(torch.nn.Module):
    def __init__(self, folder, classes):
        super().__init__()
        self.bert = AutoModel.from_pretrained(folder, dtype=torch.float32,
                                              attention_probs_dropout_prob=0.0,
                                              attn_implementation="sdpa")
        self.dropout = torch.nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.classifier = torch.nn.Linear(self.bert.config.hidden_size, classes)

    def forward(self, ids, mask):
        return self.classifier(self.dropout(self.bert(ids, mask).last_hidden_state))


def batch_of(samples, device="cpu"):
    longest = max(len(ids) for ids, _, _ in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (tokens, tags, _) in enumerate(samples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, : len(tokens)] = torch.tensor(tags)
    return ids, mask, labels


def encode(tokenizer, sentences, number):
    samples = []
    for words, tags in sentences:
        made = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LONGEST)
        labels, at, before = [], {}, None
        for place, word in enumerate(made.word_ids()):
            first = word is not None and word != before
            labels.append(number[tags[word]] if first else -100)
            if first:
                at[word] = place
            before = word
        samples.append((made["input_ids"], labels, at))
    return samples


def guesses(network, samples, sentences, names):
    network.eval()
    result = [None] * len(samples)
    order = sorted(range(len(samples)), key=lambda i: len(samples[i][0]))
    with torch.no_grad():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            ids, mask, _ = batch_of([samples[i] for i in rows])
            best = network(ids, mask).argmax(-1)
            for row, i in enumerate(rows):
                at = samples[i][2]
                result[i] = [names[best[row, at[w]]] if w in at else "O"
                             for w in range(len(sentences[i][0]))]
    return result


def run(seed, tokenizer, parts, encoded, names):
    torch.manual_seed(seed)
    random.seed(seed)
    network = Network(options.model, len(names))
    decay = [p for p in network.parameters() if p.dim() > 1]
    plain = [p for p in network.parameters() if p.dim() <= 1]
    adam = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01},
                              {"params": plain, "weight_decay": 0.0}], lr=options.lr)
    count = len(encoded["train"])
    steps = options.epochs * ((count + options.batch - 1) // options.batch)
    warm = max(1, steps // 10)
    rate = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda s: s / warm if s < warm else (steps - s) / max(1, steps - warm))
    for epoch in range(options.epochs):
        network.train()
        start, total = time.time(), 0.0
        order = random.sample(range(count), count)
        pools = []  # batches of like length, as the library makes them
        for first in range(0, count, 50 * options.batch):
            pools += sorted(order[first : first + 50 * options.batch],
                            key=lambda i: len(encoded["train"][i][0]))
        batches = [pools[i : i + options.batch] for i in range(0, count, options.batch)]
        last = batches.pop() if len(batches[-1]) < options.batch else None
        random.shuffle(batches)
        for rows in batches + ([last] if last else []):
            ids, mask, labels = batch_of([encoded["train"][i] for i in rows])
            loss = torch.nn.functional.cross_entropy(network(ids, mask).flatten(0, 1),
                                                     labels.flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            rate.step()
            adam.zero_grad()
            total += loss.item()
        dev = f1([t for _, t in parts["dev"]],
                 guesses(network, encoded["dev"], parts["dev"], names))
        print(f"seed {seed} epoch {epoch + 1} loss {total / len(batches):.4f} dev F1 {dev:.4f}"
              f" {time.time() - start:.0f} s", flush=True)
    test = f1([t for _, t in parts["test"]],
              guesses(network, encoded["test"], parts["test"], names))
    print(f"seed {seed} lr {options.lr} epochs {options.epochs} batch {options.batch}:"
          f" dev F1 {dev:.4f} test F1 {test:.4f}", flush=True)
    return dev, test


def main():
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    parts = {part: read(os.path.join(options.data, part + ".conll"))
             for part in ("train", "dev", "test")}
    names = sorted({tag for _, tags in parts["train"] for tag in tags})
    number = {name: i for i, name in enumerate(names)}
    encoded = {part: encode(tokenizer, sentences, number) for part, sentences in parts.items()}
    for part, samples in encoded.items():
        lost = sum(len(parts[part][i][0]) - len(s[2]) for i, s in enumerate(samples))
        print(f"{part}: {len(samples)} sentences, longest {max(len(s[0]) for s in samples)},"
              f" {lost} words without a piece", flush=True)
    results = [run(int(seed), tokenizer, parts, encoded, names)
               for seed in options.seeds.split(",")]
    dev, test = (sum(column) / len(results) for column in zip(*results))
    print(f"mean of {len(results)} seeds: dev F1 {dev:.4f} test F1 {test:.4f}")


main()
