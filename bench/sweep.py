"""Whether a sweep within ten minutes picks what the whole grid would have picked.

    sweep.py [--sets ants_bees,traffic_signs_12] [--budget 10m] [--threads 2] [--seed 0]

For each set of pictures: `finetune sweep` of 18 settings (rate, frozen layers, activation) of
resnet18_imagenet within the time, then `finetune train` of each of the 18 for as many epochs as the
sweep gave its best ones, scored on the test pictures. Prints the table, and how the winner's test
result compares with the best of all. Each run's result is kept in build/sweep/, so that a script
that was stopped goes on. Needs FINETUNE_DATA and build/finetune.
"""
import argparse
import json
import os
import shlex
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.join(HERE, "..", "build", "sweep")
TOOL = os.path.join(HERE, "..", "build", "finetune")
DATA = os.environ.get("FINETUNE_DATA", os.path.join(HERE, "..", "..", "shared", "data"))
TEST = {"ants_bees": "val", "traffic_signs_12": "test"}
RATES = ["1e-4", "3e-4", "1e-3"]
FREEZE = ["", "conv1*,bn1*,layer[1-3]*"]
ACTIVATIONS = ["relu", "gelu", "silu"]


def kept(name, command):
    """The JSON that a command prints, with its seconds; from the file, if it ran before."""
    path = os.path.join(WORK, name + ".json")
    if not os.path.exists(path):
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"failed: {shlex.join(command)}\n{done.stdout}")
        result = json.loads(done.stdout.splitlines()[-1])
        result["wall"] = time.monotonic() - begun
        with open(path + ".partial", "w") as file:
            json.dump(result, file)
        os.replace(path + ".partial", path)
    with open(path) as file:
        return json.load(file)


def compare(name, o):
    train, test = (f"{DATA}/images/{name}/{part}" for part in ("train", TEST[name]))
    common = ["--model", f"{DATA}/weights/resnet18_imagenet.safetensors", "--data", train, "--val", test,
              "--threads", str(o.threads), "--seed", str(o.seed), "--quiet", "--json"]
    out = os.path.join(WORK, name + ".safetensors")
    swept = kept(f"{name}-sweep", [
        TOOL, "sweep", *common, "--cache", "none", "--out", out, "--lr", ",".join(RATES),
        "--freeze", ";".join(FREEZE), "--activation", ",".join(ACTIVATIONS), "--budget", o.budget,
        "--report", os.path.join(WORK, name + ".html")])
    words = shlex.split(swept["command"])
    epochs = words[words.index("--epochs") + 1]
    rows = []
    for row in swept["settings"]:
        which = f"{row['lr']:g}-{FREEZE.index(row['freeze'])}-{row['activation']}"
        alone = kept(f"{name}-{epochs}-{which}", [
            TOOL, "train", *common, "--cache", "none", "--out", out + ".one.safetensors",
            "--lr", f"{row['lr']:g}", "--freeze", row["freeze"], "--activation", row["activation"],
            "--schedule", "cosine", "--epochs", epochs, "--hold-back", "0.2"])
        rows.append((row, alone))
    best = max(alone["correct"] for _, alone in rows)
    print(f"\n{name}: {swept['wall']:.0f} s for the sweep, {epochs} epochs for the best; the grid"
          f" {sum(alone['wall'] for _, alone in rows):.0f} s")
    print("| place | rate | frozen | activation | epochs | held back | p | test, alone |\n|--|--|--|--|--|--|--|--|")
    for row, alone in rows:
        print(f"| {row['place']} | {row['lr']:g} | {row['freeze'] or 'nothing'} | {row['activation']} |"
              f" {row['epochs']} | {100 * row['value']:.1f} % | {row['p']:.2g} |"
              f" {alone['correct']} of {alone['total']} |")
    behind = best - swept["correct"]
    print(f"the winner has {swept['correct']} of {swept['total']} right, the best of the grid {best}:"
          f" {100 * behind / swept['total']:.2f} points behind")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="ants_bees,traffic_signs_12")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    for name in o.sets.split(","):
        compare(name, o)


if __name__ == "__main__":
    main()
