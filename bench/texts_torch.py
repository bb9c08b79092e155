"""The tool's recipe for texts, in PyTorch: the mean of a BERT's tokens goes into a linear layer, and the
network is trained whole.

    python3 bench/texts_torch.py [--data sick2014|sst2] [--seeds 1 2 3] [--epochs 3] [--threads 1]
                                 [--tool build/finetune]

sick2014: sentence pairs, each read as one sequence, and a number; it prints the Pearson and Spearman
correlations of the test set. sst2: sentences of two classes, all 6,920; it prints the shares of the test
and dev sets that are right. With --tool the tool's own stand beside them, and the mean difference. Needs
FINETUNE_DATA (weights/minilm_l3, text/sick2014, text/sst2), torch and transformers.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile

import torch
import transformers

DATA = os.environ.get("FINETUNE_DATA", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                    "..", "..", "shared", "data"))
MODEL, TEXT = f"{DATA}/weights/minilm_l3", f"{DATA}/text"
BATCH, RATE, LONGEST = 32, 5e-5, 64


class Scorer(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        config = transformers.BertConfig.from_pretrained(MODEL)
        self.bert = transformers.BertModel.from_pretrained(MODEL, config=config, add_pooling_layer=False,
                                                           dtype=torch.float32)
        self.dropout = torch.nn.Dropout(config.hidden_dropout_prob)
        self.head = torch.nn.Linear(config.hidden_size, outputs)

    def forward(self, ids, mask, types):
        hidden = self.bert(ids, mask, types).last_hidden_state
        mask = mask[:, :, None].float()
        return self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))


def read(data, name):
    """Rows of texts, one or two in each, and what is to be predicted."""
    rows = [line.rstrip("\n").split("\t") for line in open(f"{TEXT}/{data}/{name}.tsv", encoding="utf-8")]
    if data == "sst2":
        return [(r[0],) for r in rows], torch.tensor([int(r[1]) for r in rows])
    first, second, score = (rows[0].index(k) for k in ("sentence_A", "sentence_B", "relatedness_score"))
    return [(r[first], r[second]) for r in rows[1:]], torch.tensor([float(r[score]) for r in rows[1:]])


def length(row):
    return sum(map(len, row))


def orders(rows):
    """Batches of like length in a random order, as the library makes them."""
    order, pools = random.sample(range(len(rows)), len(rows)), []
    for at in range(0, len(order), 50 * BATCH):
        pools += sorted(order[at:at + 50 * BATCH], key=lambda i: length(rows[i]))
    parts = [pools[at:at + BATCH] for at in range(0, len(pools), BATCH)]
    last = [parts.pop()] if len(parts[-1]) < BATCH else []
    random.shuffle(parts)
    return [i for part in parts + last for i in part]


def batches(tokenizer, rows, order):
    for at in range(0, len(order), BATCH):
        some = order[at:at + BATCH]
        columns = [list(column) for column in zip(*(rows[i] for i in some))]
        encoded = tokenizer(*columns, padding=True, truncation=True, max_length=LONGEST,
                            return_tensors="pt")
        yield some, (encoded["input_ids"], encoded["attention_mask"], encoded["token_type_ids"])


def ranks(x):
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def pearson(a, b):
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].item()


def outputs_of(model, tokenizer, rows):
    outputs = [None] * len(rows)
    model.eval()
    with torch.no_grad():
        for some, inputs in batches(tokenizer, rows, sorted(range(len(rows)), key=lambda i: length(rows[i]))):
            for i, output in zip(some, model(*inputs)):
                outputs[i] = output
    return torch.stack(outputs)


def train(data, seed, epochs):
    torch.manual_seed(seed)
    random.seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    rows, wanted = read(data, "train")
    classes = data == "sst2"
    model = Scorer(2 if classes else 1).train()
    if not classes:
        wanted = ((wanted - wanted.mean()) / wanted.std(unbiased=False))[:, None]
    loss_of = torch.nn.functional.cross_entropy if classes else torch.nn.functional.mse_loss
    vectors = [p for p in model.parameters() if p.dim() < 2]
    others = [p for p in model.parameters() if p.dim() >= 2]
    optimizer = torch.optim.AdamW([{"params": others, "weight_decay": 0.01},
                                   {"params": vectors, "weight_decay": 0.0}], RATE)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    for _ in range(epochs):
        for some, inputs in batches(tokenizer, rows, orders(rows)):
            loss = loss_of(model(*inputs), wanted[some])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    found = []
    for part in ("test", "dev") if classes else ("test",):
        rows, wanted = read(data, part)
        outputs = outputs_of(model, tokenizer, rows)
        if classes:
            found.append((outputs.argmax(1) == wanted).double().mean().item())
        else:
            found += [pearson(outputs[:, 0], wanted), pearson(ranks(outputs[:, 0]), ranks(wanted))]
    return found


def ours(tool, data, seed, epochs, threads):
    """The same by the tool: of sst2 the network at once, without training its head first."""
    def run(*what):
        return json.loads(subprocess.run([tool, *what, "--threads", str(threads), "--quiet", "--json"],
                                         stdout=subprocess.PIPE, text=True, check=True).stdout)

    folder = f"{TEXT}/{data}"
    more = ["--freeze", "", "--lr", str(RATE), "--batch-size", str(BATCH)]
    with tempfile.TemporaryDirectory() as place:
        model = f"{place}/out.safetensors"
        found = run("train", "--model", MODEL, "--data", f"{folder}/train.tsv", "--val",
                    f"{folder}/test.tsv", "--max-length", str(LONGEST), "--epochs", str(epochs), "--seed",
                    str(seed), "--out", model, *(more if data == "sst2"
                                                 else ["--label-column", "relatedness_score"]))
        if data != "sst2":
            return found["pearson"], found["spearman"]
        return found["accuracy"], run("eval", "--model", model, "--data", f"{folder}/dev.tsv")["accuracy"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=["sick2014", "sst2"], default="sick2014")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tool")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = ("right in test", "in dev") if options.data == "sst2" else ("Pearson", "Spearman")
    differences = []
    for seed in options.seeds:
        theirs = train(options.data, seed, options.epochs)
        both = [("PyTorch", theirs)]
        if options.tool:
            both += [("finetune", ours(options.tool, options.data, seed, options.epochs, options.threads))]
            differences.append(both[1][1][0] - theirs[0])
        for name, found in both:
            print(f"seed {seed}: {name} {names[0]} {found[0]:.4f}, {names[1]} {found[1]:.4f}", flush=True)
    if differences:
        print(f"mean difference, {names[0]}: {statistics.mean(differences):+.4f}")


if __name__ == "__main__":
    main()
