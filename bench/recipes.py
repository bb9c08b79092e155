"""What fine-tuning recipes are worth: ours, switched in several ways, and those that other
libraries document (recipes_torch.py), on the same pictures.

    recipes.py run [--set test|dev] [--tasks A,B] [--per-class 5,20,200] [--seeds 1,2,3]
                   [--recipes A,B] [--threads 2] [--minutes M]
    recipes.py table

`run` adds a row to bench/recipes.tsv for each cell that is not there yet, and may be stopped and
started again at any time; --minutes starts no further cell after that. `table` writes
bench/RECIPES.md. A cell trains on PER_CLASS pictures of each class, drawn by the seed (all, if
there are fewer), the smaller sets being part of the larger ones.

The set `test` is scored to compare us with others. It chooses nothing: between our own candidates
the set `dev` chooses, a fifth of the training pictures, whole tracks, which no cell of that set
trains on. Needs FINETUNE_DATA, Debian's dataset-fashion-mnist, build/finetune, and a Python with
torch, torchvision, safetensors and Pillow (make bench-deps).
"""
import argparse
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build")
DATA = os.environ.get("FINETUNE_DATA", os.path.join(HERE, "..", "..", "shared", "data"))
FASHION = "/usr/share/datasets/fashion-mnist"
ROWS, TABLE = os.path.join(HERE, "recipes.tsv"), os.path.join(HERE, "RECIPES.md")
FIELDS = ["set", "task", "per_class", "seed", "recipe", "right", "total", "seconds", "choice"]
TASKS = {"ants_bees": "resnet18", "traffic_signs_12": "resnet18", "fashion_mnist": "resnet20"}
WEIGHTS = {"resnet18": f"{DATA}/weights/resnet18_imagenet.safetensors",
           "resnet20": f"{DATA}/weights/resnet20_cifar10.safetensors"}
# Ours: the default first, then the candidates for it. Theirs run in PyTorch.
OURS = {"ours": [], "head only": ["--head-only"], "flip": ["--flip"],
        "trivial": ["--augment", "trivial"], "ema": ["--ema", "0.99"], "swa": ["--swa"],
        "layer decay": ["--layer-decay", "0.75"], "find flip": ["--find-flip"],
        "class means": ["--class-means"], "class means only": ["--class-means", "--head-only"],
        "last block": ["--last-block"], "hold back": ["--hold-back", "0.2"],
        "mirrored": ["--mirrored"], "average start": ["--hold-back", "0.2", "--average-start"]}
THEIRS = ["tutorial", "fastai", "keras"]


def fashion(part, names):
    """Writes pictures of Fashion-MNIST as PNGs in folders of classes: `names` says which."""
    from PIL import Image
    root = os.path.join(BUILD, "recipes", f"fashion-{part}")
    if os.path.exists(root + ".done"):
        return root
    with gzip.open(f"{FASHION}/{part}-images-idx3-ubyte.gz") as file:
        pixels = file.read()[16:]
    with gzip.open(f"{FASHION}/{part}-labels-idx1-ubyte.gz") as file:
        labels = file.read()[8:]
    for i in names:
        os.makedirs(f"{root}/{labels[i]}", exist_ok=True)
        picture = Image.frombytes("L", (28, 28), pixels[784 * i:784 * (i + 1)])
        picture.save(f"{root}/{labels[i]}/{i:05}.png")
    open(root + ".done", "w").close()
    return root


def folders(task):
    """The folders of a task: to train on, and to be scored on."""
    if task == "fashion_mnist":
        return fashion("train", range(10000)), fashion("t10k", range(2000))
    scored = {"ants_bees": "val", "traffic_signs_12": "test"}[task]
    return f"{DATA}/images/{task}/train", f"{DATA}/images/{task}/{scored}"


def listed(root):
    """{class: files}; the placeholder among the ants is no photograph."""
    return {c: sorted(f for f in os.listdir(f"{root}/{c}") if not f.endswith(".gif"))
            for c in sorted(os.listdir(root))}


def split(task, files):
    """A fifth of each class, whole tracks where files come in them: {class: files} twice."""
    rest, dev = {}, {}
    for c, names in files.items():
        tracks = {}
        for name in names:
            tracks.setdefault(name.split("_")[0] if task.startswith("traffic") else name,
                              []).append(name)
        order = sorted(tracks)
        random.Random(f"{task} {c}").shuffle(order)
        dev[c] = []
        while len(dev[c]) < len(names) / 5:
            dev[c] += tracks[order.pop()]
        rest[c] = [n for n in names if n not in set(dev[c])]
    return rest, dev


def link(root, files, to):
    """A folder with links to these files, made once."""
    if not os.path.exists(to + ".done"):
        for c, names in files.items():
            os.makedirs(f"{to}/{c}", exist_ok=True)
            for name in names:
                if not os.path.lexists(f"{to}/{c}/{name}"):
                    os.symlink(os.path.abspath(f"{root}/{c}/{name}"), f"{to}/{c}/{name}")
        open(to + ".done", "w").close()
    return to


def cell_folders(which, task, per_class, seed):
    """The folders of a cell: the drawn pictures, and those that are scored."""
    root, scored = folders(task)
    files = listed(root)
    work = os.path.join(BUILD, "recipes", f"{task}-{which}")
    if which == "dev":
        files, dev = split(task, files)
        scored = link(root, dev, f"{work}-scored")
    else:
        scored = link(scored, listed(scored), f"{work}-scored")
    drawn = {}
    for c, names in files.items():
        names = list(names)
        random.Random(f"{task} {c} {seed}").shuffle(names)
        drawn[c] = names[:per_class]
    return link(root, drawn, f"{work}-{per_class}-{seed}"), scored


def run_cell(cell, threads):
    which, task, per_class, seed, recipe = cell
    train, scored = cell_folders(which, task, per_class, seed)
    weights = WEIGHTS[TASKS[task]]
    out = os.path.join(BUILD, "recipes", "model.safetensors")
    if recipe in OURS:
        command = [os.path.join(BUILD, "finetune"), "train", "--model", weights, "--data", train,
                   "--val", scored, "--out", out, "--seed", str(seed), "--threads", str(threads),
                   "--json", "--quiet", "--cache", os.path.join(BUILD, "recipes", "cache"),
                   *OURS[recipe]]
    else:
        command = [sys.executable, f"{HERE}/recipes_torch.py", recipe, TASKS[task], weights, train,
                   scored, str(seed), str(threads)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    right = found["right"] if "right" in found else found["correct"]
    return dict(zip(FIELDS, [which, task, per_class, seed, recipe, right, found["total"],
                             round(found["seconds"]), found.get("choice", "")]))


def read():
    if not os.path.exists(ROWS):
        return []
    with open(ROWS, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def run(options):
    done = {tuple(row[f] for f in FIELDS[:5]) for row in read()}
    cells = [(options.set, task, n, seed, recipe) for n in options.per_class
             for seed in options.seeds for task in options.tasks for recipe in options.recipes]
    end = time.time() + 60 * options.minutes
    os.makedirs(os.path.join(BUILD, "recipes", "cache"), exist_ok=True)
    for cell in cells:
        if tuple(map(str, cell)) in done:
            continue
        if time.time() > end:
            return
        row = run_cell(cell, options.threads)
        new = not os.path.exists(ROWS)
        with open(ROWS, "a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, delimiter="\t", lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(*(row[f] for f in FIELDS[:8]), flush=True)


def wilson(right, total):
    """The 95 % interval of a share."""
    z, p = 1.959963984540054, right / total
    middle, off = p + z * z / 2 / total, z * (p * (1 - p) / total + (z / 2 / total) ** 2) ** 0.5
    return (middle - off) / (1 + z * z / total), (middle + off) / (1 + z * z / total)


def lines_of(rows, which):
    """A table of one set: cells down, recipes across, the mean over all cells that all have."""
    found = {}
    for row in rows:
        if row["set"] == which:
            found.setdefault((row["task"], int(row["per_class"])), {}) \
                 .setdefault(row["recipe"], {})[row["seed"]] = (int(row["right"]), int(row["total"]))
    names = [r for r in [*OURS, *THEIRS] if any(r in cell for cell in found.values())]
    lines = ["| task | a class | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 2)]
    shares = {name: [] for name in names}
    for task, n in sorted(found, key=lambda cell: (list(TASKS).index(cell[0]), cell[1])):
        cell, texts = found[task, n], []
        for name in names:
            runs = cell.get(name, {}).values()
            right, total = sum(r for r, _ in runs), sum(t for _, t in runs)
            if not total:
                texts.append("")
                continue
            low, high = wilson(right / len(runs), total / len(runs))
            texts.append(f"{100 * right / total:.1f} ({100 * low:.0f}-{100 * high:.0f})"
                         + (f" of {len(runs)}" if len(runs) != 3 else ""))
        if all(texts):
            for name in names:
                runs = cell[name].values()
                shares[name].append(sum(r for r, _ in runs) / sum(t for _, t in runs))
        lines.append(f"| {task} | {n} | " + " | ".join(texts) + " |")
    if shares and all(shares.values()):
        lines.append(f"| mean of {len(shares[names[0]])} cells that all have | | " + " | ".join(
            f"{100 * sum(s) / len(s):.1f}" for s in shares.values()) + " |")
    return lines


def table(_):
    rows = read()
    lines = ["# Recipes compared", "",
             "Written by `python3 bench/recipes.py table` from recipes.tsv; which pages the recipes of"
             " others come from, recipes_torch.py says. Per cent right, the mean of three seeds (or of"
             " as many as it says), with the 95 % interval of one run (Wilson). ants_bees and"
             " traffic_signs_12 from resnet18_imagenet, fashion_mnist from resnet20_cifar10.", "",
             "## Scored on the test set", "", *lines_of(rows, "test"), "",
             "## Our candidates, scored on held-back training pictures", "", *lines_of(rows, "dev")]
    with open(TABLE, "w") as file:
        file.write("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("table").set_defaults(do=table)
    one = verbs.add_parser("run")
    one.set_defaults(do=run)

    def names(text):
        return text.split(",")

    def numbers(text):
        return [int(n) for n in text.split(",")]

    one.add_argument("--set", choices=["test", "dev"], default="test")
    one.add_argument("--tasks", type=names, default=list(TASKS))
    one.add_argument("--per-class", type=numbers, default=[5, 20, 200])
    one.add_argument("--seeds", type=numbers, default=[1, 2, 3])
    one.add_argument("--recipes", type=names)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--minutes", type=float, default=480)
    options = parser.parse_args()
    if options.verb == "run" and not options.recipes:
        options.recipes = ["ours", *THEIRS] if options.set == "test" else list(OURS)
    options.do(options)


main()
