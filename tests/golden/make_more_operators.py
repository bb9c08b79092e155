"""Makes more_operators.safetensors, in the form of make_goldens.py's operators.safetensors: the
operators that came after it, so that a new one leaves that file as it is.

    python3 tests/golden/make_more_operators.py     (needs what make_goldens.py needs)
"""
import torch
import torch.nn.functional as F

from make_goldens import Cases, save


def activations(c):
    edges = torch.tensor([[[-90.0, 90.0, -3.0, 3.0, 0.5, -0.5, 1.0, -1.0, 0.0]] * 3] * 2)
    x = torch.cat([c.random(2, 3, 31) * 3, edges], 2)
    for name in ("selu", "celu", "hardsigmoid", "hardswish", "hardtanh", "logsigmoid", "softshrink",
                 "tanhshrink"):
        c.add(name, name, getattr(F, name), [x])
    c.add("quick_gelu", "quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), [x])
    c.add("celu_half", "celu", lambda x: F.celu(x, 0.5), [x], alpha=[0.5])
    c.add("hardtanh_wide", "hardtanh", lambda x: F.hardtanh(x, -0.5, 2.0), [x], min=[-0.5], max=[2.0])
    c.add("softshrink_one", "softshrink", lambda x: F.softshrink(x, 1.0), [x], **{"lambda": [1.0]})
    c.add("threshold", "threshold", lambda x: F.threshold(x, 0.0, 0.0), [x])
    c.add("threshold_value", "threshold", lambda x: F.threshold(x, -0.5, 7.0), [x],
          threshold=[-0.5], value=[7.0])
    c.add("softmin", "softmin", lambda x: F.softmin(x, -1), [c.random(3, 4, 7)])
    c.add("softmin_channels", "softmin", lambda x: F.softmin(x, 1), [c.random(2, 4, 3, 5)], axis=[1])
    c.add("glu", "glu", lambda x: F.glu(x, -1), [c.random(3, 4, 8) * 3])
    c.add("glu_channels", "glu", lambda x: F.glu(x, 1), [c.random(2, 6, 3, 5)], axis=[1])
    c.add("prelu", "prelu", F.prelu, [x, c.random(1)])
    c.add("prelu_channels", "prelu", F.prelu, [c.random(2, 5, 3, 4), c.random(5)])
    c.add("prelu_features", "prelu", F.prelu, [c.random(7, 5), c.random(5)])


if __name__ == "__main__":
    cases = Cases()
    activations(cases)
    save(cases.tensors, "more_operators", cases.cases)
