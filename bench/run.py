"""Runs bench.c's work and that of the other libraries in turn, and writes bench/RESULTS.md.

    run.py [--rounds 5] [--seconds 1] [--threads 2] [WORK ...]
    run.py --operators [--rounds 5] [--seconds 1] [--threads 2] [WORK ...]   only prints layer beside
                                                                layer

Both libraries stay loaded and take turns, so that what else the machine does meets both alike. A
line is the median of the rounds' ratios, ours to theirs, with the least and the largest. Before it
is timed, the network's outputs are compared on the same weights and the same input. What is not
installed is left out (make bench-deps installs it).
"""
import argparse
import ctypes.util
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.path.join(HERE, "..", "build", "bench")
TRAINING = ["resnet18_whole", "resnet18_bf16", "resnet18_layer4", "keras_cnn", "mobilenet_whole",
            "mlp", "lstm_classifier", "bert_tiny", "bert_mini", "bert_mini_lora", "vit_tiny"]
INFERENCE = ["resnet18_inference_16", "resnet18_inference_1", "mobilenet_inference_1",
             "char_rnn_generate", "bert_mini_inference_1", "bert_mini_inference_32"]
GEMM = ["gemm_512_512_512", "gemm_1024_1024_1024", "gemm_2048_2048_2048", "gemm_3136_64_576",
        "gemm_784_128_1152", "gemm_196_256_2304", "gemm_49_512_4608"]


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if result.returncode == 0 and lines else None


def peers_of(work):
    names = (["torch", "numpy", "onednn", "openblas"] if work.startswith("gemm") else
             ["torch", "onnxruntime", "openvino"] if "inference" in work else ["torch", "compile"])
    module, library = {"compile": "torch"}, {"onednn": "dnnl", "openblas": "openblas"}
    return [name for name in names
            if (ctypes.util.find_library(library[name]) if name in library
                else importlib.util.find_spec(module.get(name, name)))]


def same_outputs(work, threads):
    """How far our logits are from PyTorch's, as a share of the largest."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, f"{HERE}/peers.py", "export", work, directory], check=True,
                       stderr=subprocess.DEVNULL)
        found = run([OURS, work, "--check", directory, "--threads", threads])
        return found["off"] if found else None


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


class Turns:
    """A process that works for so many seconds when it is told to."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def work(self, seconds):
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line.startswith("{") else None


def compare(work, peer, options):
    ratios, ours, theirs = [], None, None
    threads = str(options.threads)
    with Turns([OURS, work, "--slices", "--threads", threads]) as us, \
            Turns([sys.executable, f"{HERE}/peers.py", peer, work, "slices", threads]) as them:
        for turn in range(-1, options.rounds):
            a, b = [side.work(options.seconds if turn >= 0 else 0) for side in (us, them)]
            if not a or not b:
                return None
            if turn >= 0:
                ratios.append(a["per_second"] / b["per_second"])
                ours, theirs = a, b
    return ratios, ours, theirs


def our_operators(work, options):
    """Of each layer: milliseconds forward and backward, and its operator."""
    text = subprocess.run([OURS, work, str(options.seconds), "--threads", str(options.threads),
                           "--operators"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True).stderr
    lines = [line.split() for line in text.splitlines()]
    return {words[-1]: (float(words[0]), float(words[3]), words[-2])
            for words in lines if words[1:3] == ["ms", "forward"]}


def fastest(rounds, name):
    """Of (forward, backward, ...) in each round the one whose sum is least."""
    found = [layers[name] for layers in rounds if name in layers]
    return min(found, key=lambda times: times[0] + times[1]) if found else (0, 0)


def operators(work, options):
    """Our layers beside PyTorch's in a training step, in turn, each the fastest of the rounds:
    milliseconds, and the share of our step. Ours hold the activation behind them, PyTorch's do
    not."""
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(our_operators(work, options))
        theirs.append(run([sys.executable, f"{HERE}/peers.py", "operators", work,
                           str(options.seconds), str(options.threads)]))
        if not theirs[-1]:
            sys.exit(f"{work}: PyTorch's layers could not be timed")
    found = {name: fastest(ours, name) for name in ours[0]}
    total = sum(times[0] + times[1] for times in found.values())
    print(f"\n{work}: {total:.1f} ms in our operators\n")
    print("| layer | operator | share | forward ours | theirs | backward ours | theirs | slower |")
    print("|" + " --- |" * 8)
    for name, (forward, backward, operator) in found.items():
        a, b = fastest(theirs, name)
        share = (forward + backward) / total
        ours_both = forward + (backward if b else 0)  # a first layer's backward is not known
        slower = "yes" if a and share > 0.01 and ours_both > 1.05 * (a + b) else ""
        cell = [f"{v:.3f}" if v else "" for v in (a, b)]
        print(f"| {name} | {operator} | {100 * share:.1f} % | {forward:.3f} | {cell[0]} |"
              f" {backward:.3f} | {cell[1]} | {slower} |", flush=True)


def processor():
    with open("/proc/cpuinfo") as file:
        text = file.read()
    flags = next(line for line in text.splitlines() if line.startswith("flags")).split()
    name = next(line for line in text.splitlines() if line.startswith("model name"))
    sets = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name.split(':')[1].strip()}, {os.cpu_count()} cores, {' '.join(sets)}"


def versions():
    from importlib.metadata import PackageNotFoundError, version
    found = []
    for name in ("torch", "onnxruntime", "openvino", "numpy"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            pass
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("work", nargs="*")
    options = parser.parse_args()
    if options.operators:
        for work in options.work or ["resnet18_whole", "keras_cnn", "mobilenet_whole"]:
            operators(work, options)
        return
    works = options.work or TRAINING + INFERENCE + GEMM
    lines = ["# What was measured", "",
             f"`python3 bench/run.py --rounds {options.rounds} --seconds {options.seconds:g}"
             f" --threads {options.threads}{' ' if options.work else ''}"
             f"{' '.join(options.work)}` on {processor()}; {versions()},"
             f" {platform.system()}, Python {platform.python_version()}.", "",
             "Samples (for gemm_M_N_K: GFLOP) a second, ours to theirs, alternating, the median of"
             " the rounds and the least and largest ratio; largest resident memory; seconds from"
             " the start of the process to the end of the first step. Networks' logits were"
             " compared before: the largest difference as a share of the largest logit. \"of peak\":"
             " our multiply-adds (those of the plain form) as a share of what the same threads make"
             " in registers, in float32.", "",
             "| work | against | ratio | ours | theirs | of peak | MB ours | MB theirs | start ours"
             " | start theirs | logits off |", "|" + " --- |" * 11]
    for work in works:
        off = None if work.startswith("gemm") else same_outputs(work, str(options.threads))
        if off is not None and not off < (2e-2 if work.endswith("bf16") else 1e-3):
            sys.exit(f"{work}: our logits are off by {off} of the largest: not the same work")
        for peer in peers_of(work):
            found = compare(work, peer, options)
            if not found:
                lines.append(f"| {work} | {peer} | failed |" + " |" * 8)
                continue
            ratios, a, b = found
            lines.append(f"| {work} | {peer} | {spread(ratios)} | {a['per_second']} |"
                         f" {b['per_second']} | {a['of_peak']:.2f} | {a['resident_mb']} | {b['resident_mb']} |"
                         f" {a['first_step']} | {b['first_step']} |"
                         f" {'' if off is None else f'{off:.1e}'} |")
            print(lines[-1], flush=True)
    with open(os.path.join(HERE, "RESULTS.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
