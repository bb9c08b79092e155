"""Makes losses.safetensors, for tests/test_losses.c: losses that are written from nodes there.

    python3 tests/golden/make_losses.py         (needs torch and safetensors from PyPI)

For CASE l1, cosine, focal, focal_classes, infonce, wave: the inputs CASE/a and CASE/b (labels as int32),
the loss CASE/y and the gradients CASE/da and, if b is no target, CASE/db. wave is x sin(x), which the C test adds by callbacks.
siamese/: left, right, target (1: a pair of one class), the weights fc1.weight ... before and, after/..., after
ten steps of SGD with momentum on all pairs at once, and the losses of these steps.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.manual_seed(17)
tensors = {}


def case(name, loss_of, a, b, gradient_of_b=True):
    a, b = a.requires_grad_(), b.requires_grad_(gradient_of_b)
    y = loss_of(a, b)
    y.backward()
    for key, value in dict(a=a, b=b, y=y.reshape(1), da=a.grad, db=b.grad).items():
        if value is not None:
            tensors[f"{name}/{key}"] = value.detach()


def focal(x, t, gamma=2.0, alpha=0.25):
    """Lin et al. 2017, as torchvision.ops.sigmoid_focal_loss with reduction="mean" writes it."""
    p = torch.sigmoid(x)
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    return ((alpha * t + (1 - alpha) * (1 - t)) * (1 - p_t) ** gamma * entropy).mean()


def focal_classes(x, labels, gamma=1.5):
    log_p = F.log_softmax(x, 1).gather(1, labels.long()[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def infonce(a, b, temperature=0.1):
    """van den Oord et al. 2018: sample n of a belongs to sample n of b."""
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(a)))


def siamese():
    fc1, fc2 = nn.Linear(6, 10), nn.Linear(10, 4)
    embed = lambda x: fc2(torch.tanh(fc1(x)))
    left, right = torch.randn(12, 6), torch.randn(12, 6)
    target = (torch.rand(12) > 0.5).float()
    named = {f"{n}.{k}": v for n, layer in dict(fc1=fc1, fc2=fc2).items() for k, v in layer.named_parameters()}
    tensors.update({f"siamese/{k}": v.detach().clone() for k, v in named.items()})
    optimizer = torch.optim.SGD(named.values(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(10):
        distance = F.pairwise_distance(embed(left), embed(right), eps=1e-3)
        loss = (target * distance ** 2 + (1 - target) * (2 - distance).clamp(min=0) ** 2).mean()
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tensors.update({f"siamese/after/{k}": v.detach().clone() for k, v in named.items()})
    tensors.update({"siamese/left": left, "siamese/right": right, "siamese/target": target,
                    "siamese/losses": torch.stack(losses)})


n, d = 6, 5
case("l1", F.l1_loss, torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]]), torch.tensor([[1.0, 2.0, -1.5], [0.0, 0.5, -4.0]]))
case("cosine", lambda a, b: (1 - F.cosine_similarity(a, b, dim=1)).mean(), torch.randn(n, d), torch.randn(n, d))
case("focal", focal, 2 * torch.randn(n, d), (torch.rand(n, d) > 0.5).float(), False)
case("focal_classes", focal_classes, torch.randn(n, d), torch.tensor([1, 4, 0, 0, 3, 2], dtype=torch.int32), False)
case("infonce", infonce, torch.randn(n, d), torch.randn(n, d))
case("wave", lambda a, b: (a * torch.sin(a) * b).sum(), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5))
siamese()
save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/losses.safetensors")
