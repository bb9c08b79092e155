"""Makes cases.safetensors, in the form of make_goldens.py's operators.safetensors, from cases of
tests/test_operators.c that say what PyTorch calls the operator: of activations those that no other
file has, by their names.

    make build/test_operators
    python3 tests/golden/make_cases.py          (needs what make_goldens.py needs)

Values come from a formula, by the case's name: a new case changes no other.
"""
import json
import subprocess

import torch
import torch.nn.functional as F
from safetensors import safe_open

from make_goldens import HERE, Cases, formula, save


def names_in(file):
    with safe_open(f"{HERE}/{file}.safetensors", "pt") as f:
        return {case["op"] for case in json.loads(f.metadata()["cases"]).values()}


class Named(Cases):
    """The upstream gradient of a case is drawn by the case's name."""
    def random(self, *shape, scale=1.0):
        return formula(f"{self.name}.r", shape, -1, 1)


def cases(lines):
    c, others, count = Named(), names_in("operators") | names_in("more_operators"), {}
    for case in map(json.loads, lines):
        op, options = case["op"], case["options"]
        activation = case["pytorch"] == f"F.{op}(x[0])"
        if activation and op in others:
            continue
        count[op] = count.get(op, 0) + 1
        c.name = f"{op}_case{count[op]}"
        x = [formula(f"{c.name}.in{i}", shape, -2, 2) for i, shape in enumerate(case["shapes"])]
        if op == "power":
            x[0] = x[0].abs() + 0.1
        if op == "to_f32":
            x[0] = (x[0] * 10).to(torch.int32)
        if activation:
            x[0].flatten()[:4] = torch.tensor([-90.0, 90.0, -20.0, 20.0])
        o = {name: values[0] if len(values) == 1 else values for name, values in options.items()}
        c.add(c.name, op, lambda *x: eval(case["pytorch"], {"F": F, "torch": torch, "x": x, "o": o}), x,
              training=case["training"], **options)
    return c


if __name__ == "__main__":
    listed = subprocess.run([f"{HERE}/../../build/test_operators", "--cases"], check=True,
                            capture_output=True, text=True).stdout
    made = cases(listed.splitlines())
    save(made.tensors, "cases", made.cases)
