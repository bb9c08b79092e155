"""Writes one_cycle.safetensors, for test_fit.c: x [16, 5], t [16, 3], weight, bias, and per case
CASE/weight, CASE/bias after ten steps of the mean squared error of a linear layer on all of x at once."""
import os

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {  # OneCycleLR moves beta1 or momentum unless cycle_momentum is False
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}, True),
    "adamw_fixed": (torch.optim.AdamW, {"weight_decay": 0.1}, False),
    "radam": (torch.optim.RAdam, {}, True),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, True),
}


def main():
    generator = torch.Generator().manual_seed(12)
    tensors = {name: torch.randn(shape, generator=generator)
               for name, shape in (("x", (16, 5)), ("t", (16, 3)), ("weight", (3, 5)), ("bias", (3,)))}
    for name, (kind, settings, cycle) in CASES.items():
        layer = torch.nn.Linear(5, 3)
        layer.load_state_dict({key: tensors[key] for key in ("weight", "bias")})
        optimizer = kind(layer.parameters(), lr=0.1, **settings)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=cycle)
        for step in range(10):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(layer(tensors["x"]), tensors["t"]).backward()
            optimizer.step()
            if step < 9:
                schedule.step()
        tensors.update({f"{name}/{key}": value.detach().clone() for key, value in layer.named_parameters()})
    save_file(tensors, f"{HERE}/one_cycle.safetensors")


main()
