"""Makes more_operators.safetensors, in the form of make_goldens.py's operators.safetensors: the
operators that came after it, so that a new one leaves that file as it is.

    python3 tests/golden/make_more_operators.py     (needs what make_goldens.py needs)
"""
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

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


def focal(x, labels, gamma=2.0):
    """Lin et al. 2017 with softmax; torchvision has the form with sigmoid only."""
    log_p = F.log_softmax(x, 1).gather(1, labels.long()[:, None])[:, 0]
    return (-(1 - log_p.exp()) ** gamma * log_p).mean()


def losses(c):
    """Logits up to 30 apart, and targets that are met to the bit."""
    x, t = c.random(4, 6) * 2, c.random(4, 6)
    t[0] = x[0]
    c.add("l1", "l1", F.l1_loss, [x, t])
    c.add("smooth_l1", "smooth_l1", F.smooth_l1_loss, [x, t])
    c.add("smooth_l1_half", "smooth_l1", lambda x, t: F.smooth_l1_loss(x, t, beta=0.5), [x, t], beta=[0.5])
    c.add("huber", "huber", F.huber_loss, [x, t])
    c.add("huber_half", "huber", lambda x, t: F.huber_loss(x, t, delta=0.5), [x, t], delta=[0.5])
    wide = torch.cat([c.random(3, 4) * 2, torch.tensor([[15.0, -15.0, 0.0]]).T], 1)
    yes = (torch.rand(3, 5, generator=c.generator) > 0.5).float()
    c.add("sigmoid_focal", "sigmoid_focal", lambda x, t: sigmoid_focal_loss(x, t, reduction="mean"),
          [wide, yes], no_gradient=(1,))
    c.add("sigmoid_focal_plain", "sigmoid_focal",
          lambda x, t: sigmoid_focal_loss(x, t, -1, 1.5, reduction="mean"), [wide, yes],
          no_gradient=(1,), gamma=[1.5], alpha=[-1.0])
    labels = torch.tensor([2, 0, 4, 1], dtype=torch.int32)
    c.add("focal", "focal", focal, [c.random(4, 5) * 2, labels])
    c.add("focal_half", "focal", lambda x, t: focal(x, t, 0.5), [c.random(4, 5) * 2, labels], gamma=[0.5])
    c.add("focal_large", "focal", focal, [c.random(4, 5) * 30, labels])
    c.add("hinge", "hinge", lambda x, t: F.multi_margin_loss(x, t.long()), [c.random(4, 5) * 2, labels])
    c.add("hinge_wide", "hinge", lambda x, t: F.multi_margin_loss(x, t.long(), margin=3.0),
          [c.random(4, 5) * 2, labels], margin=[3.0])


if __name__ == "__main__":
    cases = Cases()
    activations(cases)
    losses(cases)
    save(cases.tensors, "more_operators", cases.cases)
