"""The tool's recipe for sentence pairs and numbers, in PyTorch: a BERT reads a pair as one sequence, the
mean of its tokens goes into a linear layer, and the network is trained whole.

    python3 bench/texts_torch.py [--seeds 1 2 3] [--epochs 3] [--threads 1] [--tool build/finetune]

Needs FINETUNE_DATA (weights/minilm_l3, text/sick2014), torch and transformers. For each seed it prints
the Pearson and Spearman correlations on sick2014's test set; with --tool the tool's own beside them, and
the mean difference.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

import torch
import transformers

DATA = os.environ.get("FINETUNE_DATA", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                    "..", "..", "shared", "data"))
MODEL, SICK = f"{DATA}/weights/minilm_l3", f"{DATA}/text/sick2014"
BATCH, RATE, LONGEST = 32, 5e-5, 64


class Scorer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        config = transformers.BertConfig.from_pretrained(MODEL)
        self.bert = transformers.BertModel.from_pretrained(MODEL, config=config, add_pooling_layer=False,
                                                           dtype=torch.float32)
        self.dropout = torch.nn.Dropout(config.hidden_dropout_prob)
        self.head = torch.nn.Linear(config.hidden_size, 1)

    def forward(self, ids, mask, types):
        hidden = self.bert(ids, mask, types).last_hidden_state
        mask = mask[:, :, None].float()
        return self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))[:, 0]


def read(name):
    rows = [line.rstrip("\n").split("\t") for line in open(f"{SICK}/{name}.tsv", encoding="utf-8")]
    first, second, score = (rows[0].index(k) for k in ("sentence_A", "sentence_B", "relatedness_score"))
    return [(r[first], r[second]) for r in rows[1:]], torch.tensor([float(r[score]) for r in rows[1:]])


def batches(tokenizer, pairs, order):
    for at in range(0, len(order), BATCH):
        some = order[at:at + BATCH]
        encoded = tokenizer([pairs[i][0] for i in some], [pairs[i][1] for i in some], padding=True,
                            truncation=True, max_length=LONGEST, return_tensors="pt")
        yield some, (encoded["input_ids"], encoded["attention_mask"], encoded["token_type_ids"])


def ranks(x):
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def pearson(a, b):
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].item()


def train(seed, epochs):
    torch.manual_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    pairs, scores = read("train")
    mean, spread = scores.mean(), scores.std(unbiased=False)
    model = Scorer().train()
    vectors = [p for p in model.parameters() if p.dim() < 2]
    others = [p for p in model.parameters() if p.dim() >= 2]
    optimizer = torch.optim.AdamW([{"params": others, "weight_decay": 0.01},
                                   {"params": vectors, "weight_decay": 0.0}], RATE)
    steps = epochs * -(-len(pairs) // BATCH)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    for _ in range(epochs):
        order = torch.randperm(len(pairs)).tolist()
        for some, inputs in batches(tokenizer, pairs, order):
            loss = torch.nn.functional.mse_loss(model(*inputs), (scores[some] - mean) / spread)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    pairs, scores = read("test")
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    outputs = torch.zeros(len(pairs))
    model.eval()
    with torch.no_grad():
        for some, inputs in batches(tokenizer, pairs, order):
            outputs[some] = model(*inputs)
    return pearson(outputs, scores), pearson(ranks(outputs), ranks(scores))


def ours(tool, seed, epochs, threads):
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [tool, "train", "--model", MODEL, "--data", f"{SICK}/train.tsv", "--val", f"{SICK}/test.tsv",
             "--label-column", "relatedness_score", "--max-length", str(LONGEST), "--epochs", str(epochs),
             "--seed", str(seed), "--threads", str(threads), "--quiet", "--json",
             "--out", f"{folder}/out.safetensors"], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(result.stdout)
    return found["pearson"], found["spearman"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tool")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    differences = []
    for seed in options.seeds:
        theirs = train(seed, options.epochs)
        print(f"seed {seed}: PyTorch Pearson {theirs[0]:.4f}, Spearman {theirs[1]:.4f}", flush=True)
        if not options.tool:
            continue
        found = ours(options.tool, seed, options.epochs, options.threads)
        differences.append(found[0] - theirs[0])
        print(f"seed {seed}: finetune Pearson {found[0]:.4f}, Spearman {found[1]:.4f}", flush=True)
    if differences:
        print(f"mean difference of Pearson {statistics.mean(differences):+.4f}")


if __name__ == "__main__":
    main()
