"""Makes stories.safetensors for tests/test_decoders.c: 100 steps of stories260K as a language model.

    python3 tests/golden/make_stories.py DATA   (needs torch, transformers and safetensors from PyPI)

DATA is the folder of FINETUNE_DATA: weights/stories260K.safetensors, weights/tok512.bin and
text/tinyshakespeare.txt, whose first 40,000 bytes are cut into 4 streams, and those into steps of 32.
losses [100]        of AdamW (rate 1e-3, weight decay 0.01) on the next tokens, all weights trained
lora_losses [100]   the same with LoRA of rank 4 and alpha 8 beside wq and wv, which start as
N.wq, N.wv [4, 64]  in layer N, at rate 3e-3
"""
import os
import struct
import sys

import peft
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

DATA = sys.argv[1]
STREAMS, STEPS, COUNT = 4, 32, 100
torch.set_num_threads(1)


def network():
    """llama2.c's weights in transformers' network: halves of heads instead of pairs."""
    names = {"tok_embeddings": "model.embed_tokens", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "attention.wq": "self_attn.q_proj",
             "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
             "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj",
             "feed_forward.w3": "mlp.up_proj", "feed_forward.w2": "mlp.down_proj"}
    state = {}
    for key, value in load_file(f"{DATA}/weights/stories260K.safetensors").items():
        heads = 8 if "wq" in key else 4 if "wk" in key else 0
        if key == "norm.weight" or key.startswith("layers"):
            key = "model." + key
        for old, new in names.items():
            key = key.replace(old, new)
        if heads:
            value = value.view(heads, -1, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
        state[key] = value
    model = hf.LlamaForCausalLM(hf.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=172, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=4, rms_norm_eps=1e-5, max_position_embeddings=512, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    return model.eval()


def pieces():
    """The text and score of each piece; tok512.bin: see the data's README."""
    found = []
    with open(f"{DATA}/weights/tok512.bin", "rb") as file:
        file.read(4)
        while head := file.read(8):
            score, size = struct.unpack("<fi", head)
            found.append((file.read(size), score))
    return found


def encode(text):
    """Ids: characters, or else bytes, then the merge of the highest score, as long as there is one. No
    piece has a space behind its first byte, so words are merged one by one."""
    vocabulary = pieces()
    number = {}
    for i, (piece, score) in enumerate(vocabulary):
        number.setdefault(piece, (i, score))
    assert not any(b" " in piece[1:] for i, (piece, _) in enumerate(vocabulary) if i > 2)
    words, known = (b" " + text).replace(b" ", b"\0 ").split(b"\0")[1:], {}
    for word in set(words):
        ids = []
        for letter in word.decode():
            letter = letter.encode()
            ids += [number[letter][0]] if letter in number else [byte + 3 for byte in letter]
        while True:
            best = None
            for i in range(len(ids) - 1):
                both = number.get(vocabulary[ids[i]][0] + vocabulary[ids[i + 1]][0])
                if both and (best is None or both[1] > best[0]):
                    best = (both[1], i, both[0])
            if best is None:
                break
            ids[best[1]:best[1] + 2] = [best[2]]
        known[word] = ids
    return [i for word in words for i in known[word]]


def train(model, ids, rate):
    each = (len(ids) - 1) // STREAMS
    assert each >= STEPS * COUNT, each
    rows = torch.tensor([ids[s * each:(s + 1) * each + 1] for s in range(STREAMS)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.01)
    losses = []
    for step in range(COUNT):
        some = rows[:, step * STEPS:(step + 1) * STEPS + 1]
        logits = model(some[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 512), some[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def main():
    ids = encode(open(f"{DATA}/text/tinyshakespeare.txt", "rb").read(40000))
    print(len(ids), "tokens:", ids[:20])
    tensors = {"losses": train(network(), ids, 1e-3)}
    torch.manual_seed(31)
    model = peft.get_peft_model(network(), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    model.eval()
    for name, p in model.named_parameters():
        if "lora_A" in name:
            layer = name.split("layers.")[1].split(".")[0]
            tensors[f"{layer}.{'wq' if 'q_proj' in name else 'wv'}"] = p.detach().clone()
    tensors["lora_losses"] = train(model, ids, 3e-3)
    print(tensors["losses"][[0, 50, 99]], tensors["lora_losses"][[0, 50, 99]])
    save_file(tensors, os.path.dirname(os.path.abspath(__file__)) + "/stories.safetensors")


main()
