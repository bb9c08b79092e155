"""Makes tests/golden/formats/*: small files as PyTorch and safetensors write them.

    python3 tests/golden/make_formats.py        (needs torch and safetensors from PyPI)

Every file but `evil` holds a = arange(6) / 4 as [2, 3], and what its name says. test_formats.c reads
them, cuts them at every byte and flips their bits.
"""
import collections
import os

import torch
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
os.makedirs(OUT, exist_ok=True)
a = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4
base = torch.arange(12, dtype=torch.float32)


def save(name, content, **options):
    torch.save(content, f"{OUT}/{name}.pt", **options)


save("plain", {"a": a})
save("ordered", collections.OrderedDict(a=a, b=a[0].clone()))
save("checkpoint", {"epoch": 3, "lr": 0.1, "done": True, "name": "x" * 30, "none": None,
                    "optimizer": {"state": {0: {"step": 5}}, "groups": [{"lr": 0.1}]},
                    "state_dict": {"a": a, "b": a[1].clone()}})
save("module", {"module.a": a, "module.b.weight": a[0].clone()})
save("views", {"a": a, "whole": base, "part": base[4:8], "turned": base.reshape(3, 4).t(),
               "column": base.reshape(3, 4)[:, 1]})
save("types", {"a": a, "f16": a.half(), "bf16": a.bfloat16(), "f64": a.double(),
               "i64": torch.tensor([-3, 2**40]), "i32": torch.tensor([-7, 7], dtype=torch.int32),
               "u8": torch.tensor([0, 255], dtype=torch.uint8), "bool": torch.tensor([True, False]),
               "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)})
save("parameter", {"a": torch.nn.Parameter(a)})
save("protocol5", {"a": a}, pickle_protocol=5)
save("legacy", {"a": a}, _use_new_zipfile_serialization=False)


class Evil:
    def __reduce__(self):
        return os.system, ("touch build/evil-was-here",)


save("evil", {"a": a, "b": Evil()})
save("evil_only", Evil())
save_file({"a": a, "f16": a.half(), "bf16": a.bfloat16(), "i64": torch.tensor([-3, 2**40]),
           "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}, f"{OUT}/plain.safetensors",
          {"note": "a \"quoted\" \u00e4 text"})
