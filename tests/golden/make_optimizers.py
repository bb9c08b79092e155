"""Writes more_optimizers.safetensors, for test_golden.c: p and k (a kernel), the gradients g0..g9 and
h0..h9, per optimiser p after ten steps (and Adafactor's k), and sequences of learning rates per
schedule. __metadata__["cases"] has the settings. Beside make_goldens.py's optimizers.safetensors."""
import json
import os

import torch
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
O = torch.optim
OPTIMIZERS = {
    "rmsprop": (O.RMSprop, {"lr": 0.01}),
    "rmsprop_momentum": (O.RMSprop, {"lr": 0.01, "momentum": 0.9, "alpha": 0.9, "eps": 1e-3,
                                     "weight_decay": 0.1}),
    "rmsprop_clipped": (O.RMSprop, {"lr": 0.01, "eps": 0.1, "clip": 1.0}),
    "adagrad": (O.Adagrad, {"lr": 0.1}),
    "adagrad_decay": (O.Adagrad, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "clip": 1.0}),
    "nadam": (O.NAdam, {"lr": 0.02}),
    "nadam_decay": (O.NAdam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1,
                              "clip": 1.0}),
    "radam": (O.RAdam, {"lr": 0.05}),
    "radam_decay": (O.RAdam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1,
                              "clip": 1.0}),
    "adafactor": (O.Adafactor, {"lr": 0.05}),
    "adafactor_fast": (O.Adafactor, {"lr": 0.5, "weight_decay": 0.1}),
    "adafactor_clipped": (O.Adafactor, {"lr": 0.05, "clip": 1e-5}),  # squares below eps1 * eps1
}


def ten_steps(kind, settings, start, gradients):
    settings = dict(settings)
    clip = settings.pop("clip", None)
    parameter = nn.Parameter(start.clone())
    optimizer = kind([parameter], foreach=False, **settings)
    for g in gradients:
        parameter.grad = g.clone()
        if clip:
            nn.utils.clip_grad_norm_([parameter], clip)
        optimizer.step()
    return parameter.detach().clone()


def optimizers():
    generator = torch.Generator().manual_seed(6)
    tensors, cases = {}, {}
    for start, gradient, shape in (("p", "g", (5, 7)), ("k", "h", (2, 3, 4, 3)), ("b", "c", (6,))):
        tensors[start] = torch.randn(shape, generator=generator)
        tensors.update({f"{gradient}{i}": torch.randn(shape, generator=generator) for i in range(10)})
    for name, (kind, settings) in OPTIMIZERS.items():
        cases[name] = dict(settings, kind=kind.__name__.lower())
        if kind is O.NAdam or kind is O.RAdam:
            cases[name]["betas"] = list(settings.get("betas", (0.9, 0.999)))
        for start, gradient in ("pg", "kh", "bc"):
            gradients = [tensors[f"{gradient}{i}"] for i in range(10)]
            tensors[f"{name}/{start}"] = ten_steps(kind, settings, tensors[start], gradients)
    return tensors, cases


def schedules():
    """Factors on a learning rate of 1 over 20 steps; the losses of epochs for plateau."""
    def run(make, *losses):
        optimizer = O.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, rates = make(optimizer), []
        for i in range(20):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step(*[loss[i] for loss in losses])
        return rates

    from transformers import get_inverse_sqrt_schedule
    s = O.lr_scheduler
    warm = [(i + 1) / 5 for i in range(5)]
    losses = [3, 2, 2, 1.9999, 1.99985, 2.1, 2, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.7, 1.4, 2, 2, 2, 2]
    return {"warm_restarts": run(lambda o: s.CosineAnnealingWarmRestarts(o, 6)),
            "growing_restarts": run(lambda o: s.CosineAnnealingWarmRestarts(o, 3, 2)),
            "polynomial": run(lambda o: s.PolynomialLR(o, 20)),
            "warm_polynomial": warm + run(lambda o: s.PolynomialLR(o, 15, 2.5))[:15],
            # transformers' warm-up is i / 5, ours (i + 1) / 5
            "warm_inverse_sqrt": warm + run(lambda o: get_inverse_sqrt_schedule(o, 5))[5:],
            "plateau": run(lambda o: s.ReduceLROnPlateau(o, factor=0.3, patience=2), losses),
            "losses": losses}


if __name__ == "__main__":
    tensors, cases = optimizers()
    tensors.update({f"schedule/{k}": torch.tensor(v, dtype=torch.float32)
                    for k, v in schedules().items()})
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/more_optimizers.safetensors",
              {"cases": json.dumps(cases)})
