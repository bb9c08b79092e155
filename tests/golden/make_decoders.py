"""Makes the folders that tests/test_decoders.c loads, with Hugging Face's transformers.

    python3 tests/golden/make_decoders.py   (needs torch, transformers, peft and safetensors from PyPI)

decoders/NAME/      config.json and model.safetensors as save_pretrained writes them
decoders/expected.safetensors
                        ids [3, 9] of all. Of language models, per NAME: NAME/logits [3, 9, words];
                        NAME/losses of ten steps of AdamW (rate 1e-3, weight decay 0.01, no dropout)
                        on the next tokens, NAME/after, the logits then, and NAME/greedy [3, 12],
                        what model.generate appends to the first 3 tokens of each. Of classifiers,
                        whose names end in _classes: NAME/logits, losses and after [3, 3] of texts
                        of `lengths` tokens with `labels`; of `meta` the same as of llama_tied
decoders/ADAPTER/   adapters by PEFT, with ADAPTER/logits, losses and after as above
decoders/meta.safetensors
                        the weights of llama_tied under Meta's names, queries and keys in its order
"""
import json
import os
import shutil

import peft
import torch
import transformers as hf
from safetensors.torch import save_file

from drawing import draw, draw_adapter, ten_steps

HERE = os.path.dirname(os.path.abspath(__file__)) + "/decoders"
torch.set_num_threads(1)
WORDS = 30
GPT2 = {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16, "embd_pdrop": 0.0,
        "resid_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": None}
LLAMA = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": None,
         "attention_dropout": 0.0}
NETWORKS = {
    "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, n_inner=20)),
    "gpt2_classes": hf.GPT2ForSequenceClassification(hf.GPT2Config(**GPT2, num_labels=3, pad_token_id=1)),
    "llama": hf.LlamaForCausalLM(hf.LlamaConfig(
        **LLAMA, num_key_value_heads=2, rms_norm_eps=1e-3, rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32})),
    "llama_tied": hf.LlamaForCausalLM(hf.LlamaConfig(
        **LLAMA, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True)),
    "llama_bias": hf.LlamaForCausalLM(hf.LlamaConfig(
        **LLAMA, head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5})),
    "llama_classes": hf.LlamaForSequenceClassification(hf.LlamaConfig(
        **LLAMA, num_key_value_heads=1, num_labels=3, pad_token_id=1)),
    "qwen2": hf.Qwen2ForCausalLM(hf.Qwen2Config(
        **LLAMA, num_key_value_heads=1, tie_word_embeddings=True, rope_parameters={
            "rope_type": "default", "rope_theta": 1000000.0})),
    "qwen3": hf.Qwen3ForCausalLM(hf.Qwen3Config(**LLAMA, num_key_value_heads=2, head_dim=6)),
}
ADAPTERS = {  # of which network, and how
    "gpt2_lora": ("gpt2", dict(r=3, lora_alpha=6, fan_in_fan_out=True,
                               target_modules=["c_attn", "mlp.c_proj"])),
    "llama_lora": ("llama_classes", dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj", "down_proj"],
                                         task_type="SEQ_CLS")),
}


def run(model, ids, mask, labels):
    """Logits and loss."""
    if labels.dim() == 1:
        out = model(ids, attention_mask=mask, labels=labels)
    else:
        out = model(ids, labels=labels)
    return out.logits, out.loss


def train(tensors, name, model, ids, mask, labels):
    tensors[f"{name}/logits"] = run(model, ids, mask, labels)[0].detach()
    tensors[f"{name}/losses"] = ten_steps(model, lambda: run(model, ids, mask, labels)[1])
    tensors[f"{name}/after"] = run(model, ids, mask, labels)[0].detach()


def is_norm(key, p):
    return key.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"))


def tidy(path, drop):
    """Drops what every reader ignores, and would change with the library's version."""
    config = json.load(open(path))
    for key in drop:
        config.pop(key, None)
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()  # a set, whose order changes from run to run
    json.dump(config, open(path, "w"), indent=1, sort_keys=True)


def adapters(tensors, ids, padded, mask, labels, generator):
    for name, (base, config) in ADAPTERS.items():
        model = type(NETWORKS[base]).from_pretrained(f"{HERE}/{base}")
        model = peft.get_peft_model(model, peft.LoraConfig(**config))
        draw_adapter(model, generator)
        model.save_pretrained(f"{HERE}/{name}")
        os.remove(f"{HERE}/{name}/README.md")
        tidy(f"{HERE}/{name}/adapter_config.json", ["peft_version", "base_model_name_or_path"])
        classes = base.endswith("_classes")
        train(tensors, name, model, padded if classes else ids, mask, labels if classes else ids)


def meta(model):
    """Meta's file: pairs of queries and keys are neighbours, not halves of a head."""
    names = {"model.embed_tokens": "tok_embeddings", "model.norm": "norm", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attention.wq",
             "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
             "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
             "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2", "model.layers": "layers"}
    tensors = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight":
            continue
        heads = 4 if "q_proj" in key else 2 if "k_proj" in key else 0
        for old, new in names.items():
            key = key.replace(old, new)
        if heads:
            rows = value.view(heads, 2, -1, value.shape[1])
            value = rows.transpose(1, 2).reshape(value.shape)
        tensors[key] = value.contiguous()
    save_file(tensors, f"{HERE}/meta.safetensors", {
        "n_heads": "4", "n_kv_heads": "2", "max_seq_len": "16", "norm_eps": "1e-5", "rope_theta": "10000"})


def main():
    generator = torch.Generator().manual_seed(29)
    lengths = torch.tensor([9, 1, 5])
    mask = (torch.arange(9) < lengths[:, None]).long()
    ids = torch.randint(2, WORDS, (3, 9), generator=generator)
    padded = torch.where(mask.bool(), ids, 1)
    labels = torch.tensor([2, 0, 1])
    tensors = {"ids": ids.int(), "lengths": lengths.int(), "labels": labels.int()}
    shutil.rmtree(HERE, ignore_errors=True)
    for name, model in NETWORKS.items():
        draw(model, generator, is_norm)
        model.save_pretrained(f"{HERE}/{name}")
        if name == "llama_tied":
            meta(model)
        if name.endswith("_classes"):
            train(tensors, name, model, padded, mask, labels)
            continue
        more = model.generate(ids[:, :3], attention_mask=torch.ones(3, 3).long(), do_sample=False,
                              max_new_tokens=12, pad_token_id=1)
        tensors[f"{name}/greedy"] = more[:, 3:].int()
        train(tensors, name, model, ids, mask, ids)
    adapters(tensors, ids, padded, mask, labels, generator)
    for name in NETWORKS:
        tidy(f"{HERE}/{name}/config.json", ["transformers_version"])
        if os.path.exists(f"{HERE}/{name}/generation_config.json"):
            os.remove(f"{HERE}/{name}/generation_config.json")
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")


main()
