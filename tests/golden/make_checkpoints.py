"""Checkpoints as people save them, for tests/test_checkpoints.c: weights beside an optimiser, averaged
ones, wrapped modules, tied weights, parameters with attributes, tensors of unusual types, the format
of before PyTorch 1.6. Run from the project's root: python3 tests/golden/make_checkpoints.py"""
import argparse, os, warnings
import torch
from safetensors.torch import save_file, save_model
from torch import nn

warnings.filterwarnings("ignore")
out = "tests/golden/formats/"
weight, bias = torch.arange(6).float().reshape(2, 3) / 4, torch.tensor([-1.0, 2.0])


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.fc.weight.data, self.fc.bias.data = weight.clone(), bias.clone()

    def forward(self, x):
        return self.fc(x)


class LanguageModel(nn.Module):
    """lstm_lm: 5 words, embedding and hidden 4, one layer, the decoder's weight is the embedding's."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding, self.lstm, self.decoder = nn.Embedding(5, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 5)
        self.decoder.weight = self.embedding.weight


def save(name, value, **options):
    torch.save(value, f"{out}ckpt_{name}.pt", **options)


def prefixed(prefix, state):
    return {prefix + k: v for k, v in state.items()}


state = Small().state_dict()
other = {k: v + 100 for k, v in state.items()}
model = Small()
optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(1, 3)).sum().backward()
optimizer.step()

save("beside", {"epoch": 90, "arch": "small", "best_acc1": torch.tensor(69.7), "optimizer": optimizer.state_dict(),
                "state_dict": state, "rng_state": torch.arange(16, dtype=torch.uint8), "losses": [0.5, 0.25], "none": None})
save("nested", {"step": 3, "model": {"params": state, "iteration": 7}, "args": argparse.Namespace(lr=0.1, names=["a"])})
save("ema", {"model": state, "model_ema": {"n_averaged": torch.tensor(7), **prefixed("module.", other)}, "epoch": 1})
save("ema_only", {"epoch": 1, "state_dict_ema": state})
save("two", {"generator": state, "discriminator": other})
save("compiled", prefixed("_orig_mod.module.", state))
save("wrapped", prefixed("backbone.encoder.", state))
save_file(prefixed("backbone.encoder.", state), out + "ckpt_wrapped.safetensors")
save_file(prefixed("module.", state), out + "ckpt_module.safetensors")
save("partly", {**prefixed("backbone.", state), "head.weight": torch.ones(1)})

parameter, plain = nn.Parameter(weight.clone()), bias.clone()
parameter.weight_loader, plain.tag = "an attribute", "another"
save("attributes", {"fc.weight": parameter, "fc.bias": plain})

unusual = {"u16": torch.tensor([1, 65535], dtype=torch.uint16), "u32": torch.tensor([7], dtype=torch.uint32),
           "u64": torch.tensor([2 ** 40], dtype=torch.uint64), "e4m3": torch.tensor([1.5, -0.001953125]).to(torch.float8_e4m3fn),
           "e5m2": torch.tensor([-3.0, 0.25]).to(torch.float8_e5m2), "complex": torch.tensor([1 + 2j]),
           "e8m0": torch.tensor([2.0]).to(torch.float8_e8m0fnu)}
save_file({**state, **{k: v for k, v in unusual.items() if k != "complex"}}, out + "ckpt_types.safetensors")
unusual["sparse"] = torch.eye(2).to_sparse()
unusual["quantized"] = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
unusual["repeated"] = torch.tensor([2.5]).expand(3)
save("types", {**state, **unusual})

tied = LanguageModel()
save("tied", tied.state_dict())
save_model(tied, out + "ckpt_tied.safetensors")
old = {"_use_new_zipfile_serialization": False}
save("legacy", {"epoch": 2, "state_dict": {**state, "part": weight.flatten()[2:5], "turned": weight.t(), "half": weight.half(),
                                           "tied": state["fc.weight"]}, "complex": torch.tensor([1 + 2j])}, **old)



def no_source(_):
    raise OSError("a class would be saved with its source and the path of it")


torch.serialization.get_source_lines_and_file = no_source
save("legacy_module", Small(), **old)
save("module", Small())
torch.jit.script(Small()).save(out + "ckpt_script.pt")
for name in sorted(os.listdir(out)):
    if name.startswith("ckpt_"):
        print(name, os.path.getsize(out + name))
