"""Makes ctc.safetensors, for tests/test_losses.c: what ft_ctc_loss gives, by PyTorch's ctc_loss.

    python3 tests/golden/make_ctc.py    (needs torch and safetensors from PyPI)

For each CASE: the logits CASE/a [N, T, classes], the labels CASE/b [N, S] as int32, padded with -1, the
lengths CASE/c [N] of some, the loss CASE/y and its gradient CASE/da, computed in float64.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.manual_seed(31)
tensors = {}


def case(name, x, labels, lengths=None, **options):
    a, n = x.double().requires_grad_(), len(labels)
    longest = max(map(len, labels))
    padded = torch.tensor([row + [-1] * (longest - len(row)) for row in labels], dtype=torch.int32)
    real = torch.full((n,), x.shape[1]) if lengths is None else torch.tensor(lengths)
    y = F.ctc_loss(F.log_softmax(a, 2).transpose(0, 1), torch.tensor(sum(labels, [])), real,
                   torch.tensor([len(row) for row in labels]), reduction="mean", **options)
    y.backward()
    assert torch.isfinite(y) and torch.isfinite(a.grad).all()
    tensors.update({f"{name}/a": x, f"{name}/b": padded, f"{name}/y": y.detach().float().reshape(1),
                    f"{name}/da": a.grad.float()})
    if lengths is not None:
        tensors[f"{name}/c"] = real.int()


def main():
    case("plain", torch.randn(3, 7, 5) * 2, [[1, 2, 3], [4, 4, 1], [2, 2, 2]])
    case("lengths", torch.randn(4, 10, 6), [[1, 1, 2, 5], [3], [], [4, 3, 4]], [10, 6, 3, 3])
    case("last_blank", torch.randn(2, 6, 4), [[0, 0, 1], [2, 1]], blank=3)
    case("too_short", torch.randn(3, 4, 4), [[1, 1, 2], [1, 2], [3, 3, 3]], zero_infinity=True)
    case("certain", torch.randn(1, 50, 5) * 60, [[1, 2, 2, 4, 3, 1, 1, 2]])
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/ctc.safetensors")


if __name__ == "__main__":
    main()
