"""Makes pairs.safetensors, for tests/test_embed.c, with PyTorch and transformers.

    python3 tests/golden/make_pairs.py   (needs torch, transformers and safetensors from PyPI)

Vectors of texts are trained as sentence-transformers' MultipleNegativesRankingLoss does it: of encoders/bert_bare
(no dropout), mean pooled over the mask, a/ids and b/ids [5, 9] with a/lengths and b/lengths; the cosines times 20,
cross-entropy with the diagonal. losses: of ten steps of AdamW (rate 1e-3, weight decay 0.01); gradient: of
encoder.layer.1.output.dense.weight in the first; a/after, b/after: the vectors after the last.
"""
import os

import torch
import torch.nn.functional as F
import transformers as hf
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)


def main():
    generator = torch.Generator().manual_seed(29)
    model = hf.BertModel.from_pretrained(f"{HERE}/encoders/bert_bare", attn_implementation="eager").eval()
    tensors, texts = {}, {}
    for side, lengths in (("a", [9, 2, 5, 7, 3]), ("b", [4, 6, 1, 8, 3])):
        lengths = torch.tensor(lengths)
        mask = (torch.arange(9) < lengths[:, None]).long()
        ids = torch.randint(1, 30, (5, 9), generator=generator) * mask
        texts[side] = ids, mask
        tensors[f"{side}/ids"], tensors[f"{side}/lengths"] = ids.int(), lengths.int()

    def vectors(side):
        ids, mask = texts[side]
        hidden = model(ids, mask).last_hidden_state * mask[:, :, None]
        return hidden.sum(1) / mask.sum(1, keepdim=True)

    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    losses = []
    for _ in range(10):
        a, b = F.normalize(vectors("a"), dim=1), F.normalize(vectors("b"), dim=1)
        loss = F.cross_entropy(20 * a @ b.T, torch.arange(5))
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            tensors["gradient"] = model.encoder.layer[1].output.dense.weight.grad.clone()
        optimizer.step()
        losses.append(loss.item())
    tensors["losses"] = torch.tensor(losses)
    tensors["a/after"], tensors["b/after"] = vectors("a").detach(), vectors("b").detach()
    print(losses)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/pairs.safetensors")


main()
