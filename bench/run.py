"""Runs bench.c's work and that of the other libraries in turn, and writes the lines into
bench/RESULTS.md, under the machine's own heading.

    run.py [--rounds 5] [--seconds 1] [--threads 2] [WORK ...]
    run.py --operators [--rounds 5] [--seconds 1] [--threads 2] [WORK ...]   only prints layer beside
                                                                layer

Both libraries stay loaded and take turns, so that what else the machine does meets both alike. A
line is the median of the rounds' ratios, ours to theirs, with the least and the largest. Before it
is timed, the network's outputs are compared on the same weights and the same input. What is not
installed is left out (make bench-deps installs it). A line replaces the last one of the same work
and peer on the same kind of machine: same model, threads and instruction sets, and a peak that
differs by at most 15 %. Lines of other machines stay.
"""
import argparse
import ctypes.util
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.path.join(HERE, "..", "build", "bench")
TRAINING = ["resnet18_whole", "resnet18_bf16", "resnet18_layer4", "keras_cnn", "mobilenet_whole",
            "mlp", "lstm_classifier", "bert_tiny", "bert_mini", "bert_mini_lora", "minilm_l3",
            "minilm_l3_lora", "vit_tiny", "vit_tiny_lora", "dinov2_small", "dinov2_small_lora"]
INFERENCE = ["resnet18_inference_16", "resnet18_inference_1", "mobilenet_inference_1",
             "char_rnn_generate", "bert_mini_inference_1", "bert_mini_inference_32",
             "minilm_l3_inference_1", "minilm_l3_inference_32"]
GEMM = ["gemm_512_512_512", "gemm_1024_1024_1024", "gemm_2048_2048_2048", "gemm_3136_64_576",
        "gemm_784_128_1152", "gemm_196_256_2304", "gemm_49_512_4608"]

HEAD = ["| work | against | ratio | ours | theirs | of peak | MB ours | MB theirs | start ours"
        " | start theirs | logits off |", "|" + " --- |" * 11]


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
    """The limits of the machine; of each layer milliseconds forward and backward, their floors,
    GFLOP, MB, and its operator."""
    text = subprocess.run([OURS, work, str(options.seconds), "--threads", str(options.threads),
                           "--operators"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True).stderr
    machine, _, *lines = text.splitlines()
    lines = [line.split() for line in lines]
    return json.loads(machine), {
        words[7]: (float(words[0]), float(words[2]), float(words[1]), float(words[3]),
                   float(words[4]), float(words[5]), words[6]) for words in lines}


def fastest(rounds, name):
    """Of (forward, backward, ...) in each round the one whose sum is least."""
    found = [layers[name] for layers in rounds if name in layers]
    return min(found, key=lambda times: times[0] + times[1]) if found else (0, 0)


def operators(work, options):
    """Our layers beside their floors and PyTorch's in a training step, in turn, each the fastest of
    the rounds: milliseconds, and the share of our step. Ours hold the activation behind them,
    PyTorch's do not."""
    ours, theirs = [], []
    machine = {"peak": 0, "bandwidth": 0}
    for _ in range(options.rounds):
        limits, layers = our_operators(work, options)
        machine = {name: max(machine[name], limits[name]) for name in machine}
        ours.append(layers)
        theirs.append(run([sys.executable, f"{HERE}/peers.py", "operators", work,
                           str(options.seconds), str(options.threads)]))
        if not theirs[-1]:
            sys.exit(f"{work}: PyTorch's layers could not be timed")
    found = {name: fastest(ours, name) for name in ours[0]}
    total = sum(times[0] + times[1] for times in found.values())
    print(f"\n{work}: {total:.1f} ms in our operators; {machine['peak']} GFLOP/s in registers,"
          f" copies at {machine['bandwidth']:.1f} GB/s\n")
    print("| layer | operator | share | GFLOP | MB | forward ours | floor | theirs | backward ours"
          " | floor | theirs | slower |")
    print("|" + " --- |" * 12)
    for name, (forward, backward, floor, floor_back, gflop, mb, operator) in found.items():
        a, b = fastest(theirs, name)
        share = (forward + backward) / total
        ours_both = forward + (backward if b else 0)  # a first layer's backward is not known
        slower = "yes" if a and share > 0.01 and ours_both > 1.05 * (a + b) else ""
        cell = [f"{v:.3f}" if v else "" for v in (a, b)]
        print(f"| {name} | {operator} | {100 * share:.1f} % | {gflop:.3f} | {mb:.1f} |"
              f" {forward:.3f} | {floor:.3f} | {cell[0]} |"
              f" {backward:.3f} | {floor_back:.3f} | {cell[1]} | {slower} |", flush=True)


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


def with_lines(text, machine, limits, how, lines):
    """RESULTS.md with these lines in the table of this machine, which may be new."""
    title = f"## {machine}: {limits['peak']} GFLOP/s, copies at {limits['bandwidth']:.1f} GB/s"
    parts = re.split(r"(?m)^(?=#)", text)
    for i, part in enumerate(parts):
        heading = re.match(r"## (.*): (\d+) GFLOP/s, copies at", part)
        if heading and heading[1] == machine and abs(int(heading[2]) / limits["peak"] - 1) <= 0.15:
            table = re.search(r"(?m)(^\|.*\n)+", part)
            rows = {key(line): line for line in table[0].splitlines()[len(HEAD):] + lines}
            parts[i] = "\n\n".join([part.split("\n", 1)[0], how,
                                    "\n".join(HEAD + list(rows.values())) + "\n"]) + part[table.end():]
            return "".join(parts)
    machines = [i for i, part in enumerate(parts) if re.match(r"## .* GFLOP/s, copies at", part)]
    parts.insert(machines[-1] + 1 if machines else 1,
                 "\n\n".join([title, how, "\n".join(HEAD + lines)]) + "\n\n")
    return "".join(parts)


def key(line):
    """What a line of a table is about: the work, and against what."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])


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
    lines = []
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
    limits = run([OURS, "machine", "--threads", str(options.threads)])
    command = " ".join(["python3 bench/run.py", f"--rounds {options.rounds}", f"--seconds {options.seconds:g}",
                        f"--threads {options.threads}"] + options.work)
    how = (f"The latest lines: `{command}`; {versions()}, {platform.system()},"
           f" Python {platform.python_version()}.")
    path = os.path.join(HERE, "RESULTS.md")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        machine = f"{processor()}, {options.threads} threads"
        file.write(with_lines(text, machine, limits, how, lines))


if __name__ == "__main__":
    main()
