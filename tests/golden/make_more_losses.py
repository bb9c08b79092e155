"""Makes more_losses.safetensors, for tests/test_losses.c: what ft_loss_by_kind, ft_embedding_loss and
ft_distillation give.

    python3 tests/golden/make_more_losses.py    (needs torch, torchvision and safetensors from PyPI)

For each CASE: the inputs CASE/a, CASE/b and, of some, CASE/c (labels as int32), the loss CASE/y and the
gradients CASE/da, CASE/db and CASE/dc of those that have one. They are PyTorch's functions; contrastive and
dice are written here by their formulas.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.manual_seed(23)
tensors = {}


def case(name, loss_of, *inputs, gradients="a"):
    named = {k: x.clone().requires_grad_(k in gradients) for k, x in zip("abc", inputs)}
    y = loss_of(*named.values())
    y.backward()
    tensors.update({f"{name}/{k}": x.detach() for k, x in named.items()})
    tensors.update({f"{name}/d{k}": named[k].grad for k in gradients})
    tensors[f"{name}/y"] = y.detach().reshape(1)


def dice(x, t, smooth=1.0):
    """Milletari et al. 2016, of each channel."""
    p, axes = torch.sigmoid(x), [d for d in range(x.dim()) if d != 1]
    return (1 - (2 * (p * t).sum(axes) + smooth) / (p.sum(axes) + t.sum(axes) + smooth)).mean()


def contrastive(a, b, c, margin=1.0):
    """Hadsell et al. 2006."""
    d = F.pairwise_distance(a, b)
    return ((c * d ** 2 + (1 - c) * (margin - d).clamp(min=0) ** 2) / 2).mean()


def distillation(x, teacher, labels, t=2.0, alpha=0.5):
    """Hinton et al. 2015."""
    soft = F.kl_div(F.log_softmax(x / t, 1), F.softmax(teacher / t, 1), reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(x, labels.long()) + alpha * t * t * soft


def main():
    x, yes = torch.randn(4, 6) * 3, (torch.rand(4, 6) > 0.6).float()
    weight = torch.tensor([0.5, 1.0, 3.0, 2.0, 10.0, 0.0])
    shares, labels = F.softmax(torch.randn(4, 6) * 2, 1), torch.tensor([5, 0, 3, 3], dtype=torch.int32)
    shares[1] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    case("positive", lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, pos_weight=w), x, yes, weight)
    case("kl_divergence", lambda x, t: F.kl_div(F.log_softmax(x, 1), t, reduction="batchmean"), x, shares)
    case("dice", dice, x, yes)
    case("dice_half", lambda x, t: dice(x, t, 0.5), torch.randn(2, 3, 4, 5), (torch.rand(2, 3, 4, 5) > 0.5).float())
    a, b, c = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 4)
    b[0] = a[0] + 0.1
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0])
    case("cosine", F.cosine_embedding_loss, a, b, sign, gradients="ab")
    case("cosine_margin", lambda a, b, c: F.cosine_embedding_loss(a, b, c, margin=0.25), a, a + b / 2, -sign.abs(),
         gradients="ab")
    case("contrastive", contrastive, a, a + b / 4, sign.clamp(min=0), gradients="ab")
    case("triplet", F.triplet_margin_loss, a, b, c, gradients="abc")
    case("triplet_wide", lambda a, b, c: F.triplet_margin_loss(a, b, c, margin=2.5), a, b, c, gradients="abc")
    case("distillation", distillation, x, torch.randn(4, 6) * 4, labels)
    case("distillation_warm", lambda x, t, n: distillation(x, t, n, 4.0, 0.9), x, torch.randn(4, 6) * 4, labels)
    case("distillation_alone", lambda x, t, n: distillation(x, t, n, 3.0, 1.0), x, torch.randn(4, 6) * 4, labels)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/more_losses.safetensors")


if __name__ == "__main__":
    main()
