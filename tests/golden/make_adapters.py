"""Makes adapters by PEFT beside layers that make_encoders.py has none for; tests/test_encoders.c loads them.

    python3 tests/golden/make_adapters.py   (needs torch, peft and safetensors from PyPI)

adapters/base.safetensors   the weights of Network below
adapters/NAME/      an adapter, as save_pretrained writes it
adapters/expected.safetensors
                    pictures [3, 3, 7, 7], ids [3], labels [3]; per NAME: NAME/logits; NAME/losses of ten steps
                    of AdamW (rate 1e-3, weight decay 0.01), and NAME/after, the logits then
"""
import json
import os
import shutil

import peft
import torch
from safetensors.torch import save_file

from drawing import draw, draw_adapter, ten_steps

HERE = os.path.dirname(os.path.abspath(__file__)) + "/adapters"
torch.set_num_threads(1)
ADAPTERS = {
    "dora": dict(r=3, lora_alpha=6, use_dora=True, target_modules=["conv", "point", "fc", "words"]),
    "bias": dict(r=2, lora_alpha=5, lora_bias=True, target_modules=["conv", "fc"]),
}


class Network(torch.nn.Module):
    """Of a picture and a word."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, (3, 2), stride=2, padding=1)
        self.point = torch.nn.Conv2d(6, 4, 1, bias=False)
        self.fc = torch.nn.Linear(64, 5)
        self.words = torch.nn.Embedding(11, 5)
        self.head = torch.nn.Linear(5, 3)

    def forward(self, pictures, ids):
        x = self.point(torch.relu(self.conv(pictures))).flatten(1)
        return self.head(torch.relu(self.fc(x) + self.words(ids)))


def main():
    generator = torch.Generator().manual_seed(41)
    pictures = torch.randn(3, 3, 7, 7, generator=generator)
    ids, labels = torch.tensor([4, 0, 10]), torch.tensor([2, 0, 1])
    tensors = {"pictures": pictures, "ids": ids.int(), "labels": labels.int()}
    shutil.rmtree(HERE, ignore_errors=True)
    os.mkdir(HERE)
    base = Network()
    draw(base, generator)
    save_file(base.state_dict(), f"{HERE}/base.safetensors")
    for name, config in ADAPTERS.items():
        model = Network()
        model.load_state_dict(base.state_dict())
        model = peft.get_peft_model(model, peft.LoraConfig(modules_to_save=["head"], **config))
        draw_adapter(model, generator)
        model.save_pretrained(f"{HERE}/{name}")
        os.remove(f"{HERE}/{name}/README.md")
        path = f"{HERE}/{name}/adapter_config.json"
        config = json.load(open(path))
        config.pop("peft_version", None)
        config["target_modules"].sort()  # a set, whose order changes from run to run
        json.dump(config, open(path, "w"), indent=1, sort_keys=True)
        tensors[f"{name}/logits"] = model(pictures, ids).detach()
        tensors[f"{name}/losses"] = ten_steps(model, lambda: torch.nn.functional.cross_entropy(
            model(pictures, ids), labels))
        tensors[f"{name}/after"] = model(pictures, ids).detach()
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")


if __name__ == "__main__":
    main()
