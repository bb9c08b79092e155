"""Makes transformer.safetensors, for tests/test_transformer.c: two small transformers.

    python3 tests/golden/make_transformer.py    (needs torch, numpy and safetensors from PyPI)

Per network NET, bert (norms after, padded texts, classification) and llama (norms before, rotary
positions, shared heads of keys and values, a causal language model with tied weights): NET/y, the
result in evaluation form, NET/grad/NAME, the gradient of each parameter in the first step,
NET/losses of ten steps of AdamW, and NET/after, the result afterwards. Parameters are made by
`formula` from NET.NAME, tokens too.
"""
import torch
import torch.nn.functional as F
from make_goldens import attend, formula, rotary, save

D, LENGTHS = 16, torch.tensor([5, 1, 9, 7])
BERT = {"embed.weight": (11, D), "positions.weight": (12, D), "q.weight": (D, D), "q.bias": (D,),
        "k.weight": (D, D), "k.bias": (D,), "v.weight": (D, D), "v.bias": (D,),
        "out.weight": (D, D), "out.bias": (D,), "fc1.weight": (24, D), "fc1.bias": (24,),
        "fc2.weight": (D, 24), "fc2.bias": (D,), "head.weight": (3, D), "head.bias": (3,)}
BERT.update({f"norm{i}.{part}": (D,) for i in range(3) for part in ("weight", "bias")})
LLAMA = {"embed.weight": (13, D), "q.weight": (D, D), "k.weight": (8, D), "v.weight": (8, D),
         "out.weight": (D, D), "gate.weight": (24, D), "up.weight": (24, D), "down.weight": (D, 24),
         "norm1.weight": (D,), "norm2.weight": (D,), "norm.weight": (D,)}


def tokens(net, count, words):
    return (formula(f"{net}.tokens", (4, count), 0, 1) * words).long()


def bert(p):
    linear = lambda x, name: F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
    norm = lambda x, i: F.layer_norm(x, (D,), p[f"norm{i}.weight"], p[f"norm{i}.bias"], 1e-12)
    x = F.embedding(tokens("bert", 9, 11), p["embed.weight"]) + p["positions.weight"][:9]
    x = norm(x, 0)
    y = attend(linear(x, "q"), linear(x, "k"), linear(x, "v"), LENGTHS, heads=4)
    x = norm(x + linear(y, "out"), 1)
    x = norm(x + linear(F.gelu(linear(x, "fc1")), "fc2"), 2)
    real = (torch.arange(9) < LENGTHS[:, None]).float()[:, :, None]
    y = linear((x * real).sum(1) / real.sum(1), "head")
    return y, F.cross_entropy(y, torch.tensor([2, 0, 1, 1]))


def llama(p):
    linear = lambda x, name: F.linear(x, p[f"{name}.weight"])
    norm = lambda x, name: F.rms_norm(x, (D,), p[f"{name}.weight"], 1e-5)
    words = tokens("llama", 10, 13)
    x = F.embedding(words[:, :9], p["embed.weight"])
    h = norm(x, "norm1")
    y = attend(rotary(linear(h, "q"), 4, 4, False), rotary(linear(h, "k"), 2, 4, False),
               linear(h, "v"), heads=4, some=2, causal=True)
    x = x + linear(y, "out")
    h = norm(x, "norm2")
    x = norm(x + linear(F.silu(linear(h, "gate")) * linear(h, "up"), "down"), "norm")
    labels = words[:, 1:].clone()
    labels[0, :3] = -100
    return x, F.cross_entropy((x @ p["embed.weight"].T).flatten(0, 1), labels.flatten())


def network(tensors, net, shapes, run):
    p = {k: formula(f"{net}.{k}", s, *((0.5, 1.5) if "norm" in k and "weight" in k else (-0.6, 0.6)))
         for k, s in shapes.items()}
    for value in p.values():
        value.requires_grad_()
    optimizer = torch.optim.AdamW(p.values(), lr=0.01, weight_decay=0.1)
    tensors[f"{net}/y"] = run(p)[0]
    losses = []
    for step in range(10):
        optimizer.zero_grad()
        loss = run(p)[1]
        loss.backward()
        if step == 0:
            tensors.update({f"{net}/grad/{k}": v.grad.clone() for k, v in p.items()})
        optimizer.step()
        losses.append(loss.item())
    tensors[f"{net}/losses"] = torch.tensor(losses)
    tensors[f"{net}/after"] = run(p)[0]
    print(net, losses)


if __name__ == "__main__":
    goldens = {}
    network(goldens, "bert", BERT, bert)
    network(goldens, "llama", LLAMA, llama)
    save(goldens, "transformer")
