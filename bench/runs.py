"""Runs bench_runs.c's and peer_runs.py's whole runs in turn, and writes bench/RUNS.md.

    runs.py [--rounds 3] [--threads 2]

Needs the weights and pictures of FINETUNE_DATA, and PyTorch (make bench-deps).
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.environ.get("FINETUNE_DATA", os.path.join(HERE, "..", "..", "shared", "data"))
FILES = [f"{DATA}/weights/resnet18_imagenet.safetensors", f"{DATA}/images/ants_bees/train",
         f"{DATA}/images/ants_bees/val"]
# What is compared: ours, its options, theirs
ROWS = {"start": ("start", False, "start"), "head": ("head", False, "head"),
        "head, cache of the last run": ("head", True, "head"),
        "head, 8 augmented views": ("head_views", False, "head_views")}


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            check=True)
    return json.loads(result.stdout.splitlines()[-1])


def one_round(threads, cache):
    """Every row once; PyTorch's own work once for all rows that are compared with it."""
    found, theirs = {}, {}
    for name, (work, cached, peer) in ROWS.items():
        command = [os.path.join(HERE, "..", "build", "bench_runs"), work, *FILES, "--threads", threads]
        if cached:
            run(command + ["--cache", cache])
        ours = run(command + (["--cache", cache] if cached else []))
        if peer not in theirs:
            theirs[peer] = run([sys.executable, f"{HERE}/peer_runs.py", peer, *FILES, threads])
        found[name] = ours, theirs[peer]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not all(map(os.path.exists, FILES)) or not importlib.util.find_spec("torch"):
        print("bench/runs.py: skipped, for it needs FINETUNE_DATA and PyTorch")
        return
    with tempfile.TemporaryDirectory() as cache:
        rounds = [one_round(str(options.threads), cache) for _ in range(options.rounds)]
    sys.path.insert(0, HERE)
    from run import processor, versions
    lines = ["# Whole runs", "",
             f"`python3 bench/runs.py --rounds {options.rounds} --threads {options.threads}` on"
             f" {processor()}; {versions()}.", "",
             "From the start of the process: `start` to weights read and the plan of ResNet-18 with"
             " batches of 16 made; `head` to the end of 10 epochs over ants_bees' 245 pictures with"
             " batches of 32, the network frozen but for a new head, decoding included. PyTorch runs"
             " the frozen network in each epoch, in evaluation form and without gradients. Ratio of"
             " the seconds, theirs to ours: the median and the least and largest of the rounds."
             " Right: of the 153 pictures held out, scored once after the time ended.", "",
             "| work | ratio | seconds ours | theirs | right ours | theirs | MB ours | theirs |",
             "|" + " --- |" * 8]
    for name in ROWS:
        pairs = [found[name] for found in rounds]
        ratios = [b["seconds"] / a["seconds"] for a, b in pairs]
        middle = [statistics.median(p[i]["seconds"] for p in pairs) for i in (0, 1)]
        a, b = pairs[-1]
        lines.append(f"| {name} | {statistics.median(ratios):.1f} ({min(ratios):.1f}-"
                     f"{max(ratios):.1f}) | {middle[0]:.3f} | {middle[1]:.2f} |"
                     f" {a['right'] or ''} | {b['right'] or ''} | {a['resident_mb']} |"
                     f" {b['resident_mb']} |")
        print(lines[-1], flush=True)
    with open(os.path.join(HERE, "RUNS.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


main()
