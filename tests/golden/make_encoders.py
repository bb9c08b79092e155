"""Makes the folders that tests/test_encoders.c loads, with Hugging Face's transformers.

    python3 tests/golden/make_encoders.py   (needs torch, transformers and safetensors from PyPI)

encoders/NAME/      config.json and model.safetensors as save_pretrained writes them
encoders/expected.safetensors
                        per NAME: ids [3, 9] and lengths [3]; NAME/logits; NAME/losses of ten steps of
                        AdamW (rate 1e-3, weight decay 0.01, no dropout) on `labels`, and NAME/after,
                        the logits then. Names that end in _bare have no head: NAME/hidden, the last
                        hidden states of the real steps (the others are zeros), and NAME/mean.
encoders/bert_shards/    bert, its weights in two files with an index
encoders/ADAPTER/   adapters by PEFT, with ADAPTER/logits, losses and after as above
"""
import json
import os
import shutil

import peft
import torch
import transformers as hf
from safetensors.torch import save_file

from drawing import draw, draw_adapter, ten_steps

HERE = os.path.dirname(os.path.abspath(__file__)) + "/encoders"
torch.set_num_threads(1)
SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 12, "hidden_dropout_prob": 0.0,
         "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
DISTIL = {"vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
          "max_position_embeddings": 12, "dropout": 0.0, "attention_dropout": 0.0,
          "seq_classif_dropout": 0.0}
LABELS = {"id2label": {0: "sad", 1: "so so", 2: "glad"}, "label2id": {"sad": 0, "so so": 1, "glad": 2}}
NETWORKS = {
    "bert": hf.BertForSequenceClassification(hf.BertConfig(**SIZES, **LABELS)),
    "bert_bare": hf.BertModel(hf.BertConfig(**SIZES, hidden_act="gelu_new", layer_norm_eps=1e-3)),
    "roberta": hf.RobertaForSequenceClassification(hf.RobertaConfig(
        **{**SIZES, "max_position_embeddings": 14, "type_vocab_size": 1}, pad_token_id=1,
        layer_norm_eps=1e-5, num_labels=3)),
    "distilbert": hf.DistilBertForSequenceClassification(hf.DistilBertConfig(
        **DISTIL, activation="relu", num_labels=3)),
}


ADAPTERS = {  # of which network, and how
    "lora": ("bert", dict(r=3, lora_alpha=6, target_modules=["query", "value", "output.dense"],
                          modules_to_save=["classifier"])),
    "rslora": ("roberta", dict(r=4, lora_alpha=3, use_rslora=True, target_modules="all-linear",
                               task_type="SEQ_CLS", rank_pattern={"layer.1.attention.self.key": 2},
                               alpha_pattern={"self.query": 5})),
    "dora": ("bert", dict(r=3, lora_alpha=6, use_dora=True, target_modules=["query", "output.dense"],
                          modules_to_save=["classifier"])),
    "words": ("distilbert", dict(r=2, lora_alpha=5, target_modules=["word_embeddings", "v_lin"], bias="lora_only",
                                 modules_to_save=["classifier"])),
}


def train(tensors, name, model, padded, mask, labels):
    """Ten steps of AdamW; adds NAME/losses and NAME/after."""
    tensors[f"{name}/losses"] = ten_steps(model, lambda: model(padded, mask, labels=labels).loss)
    tensors[f"{name}/after"] = model(padded, mask).logits.detach()


def adapters(tensors, mask, labels, generator):
    for name, (base, config) in ADAPTERS.items():
        model = type(NETWORKS[base]).from_pretrained(f"{HERE}/{base}")
        model = peft.get_peft_model(model, peft.LoraConfig(**config))
        padded = tensors[f"{base}/ids"].long()
        draw_adapter(model, generator)
        model.save_pretrained(f"{HERE}/{name}")
        os.remove(f"{HERE}/{name}/README.md")
        path = f"{HERE}/{name}/adapter_config.json"
        config = json.load(open(path))
        config["base_model_name_or_path"] = base
        config.pop("peft_version", None)
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # a set, whose order changes from run to run
        json.dump(config, open(path, "w"), indent=1, sort_keys=True)
        tensors[f"{name}/ids"] = padded.int()
        tensors[f"{name}/logits"] = model(padded, mask).logits.detach()
        train(tensors, name, model, padded, mask, labels)


def main():
    generator = torch.Generator().manual_seed(23)
    lengths = torch.tensor([9, 1, 5])
    mask = (torch.arange(9) < lengths[:, None]).long()
    ids = torch.randint(2, 30, (3, 9), generator=generator)
    labels = torch.tensor([2, 0, 1])
    tensors = {"lengths": lengths.int(), "labels": labels.int()}
    shutil.rmtree(HERE, ignore_errors=True)
    for name, model in NETWORKS.items():
        padded = torch.where(mask.bool(), ids, model.config.pad_token_id)
        tensors[f"{name}/ids"] = padded.int()
        draw(model, generator)
        model.save_pretrained(f"{HERE}/{name}")
        if name == "bert":
            model.save_pretrained(f"{HERE}/bert_shards", max_shard_size="12KB")
        if name.endswith("_bare"):
            hidden = model(padded, mask).last_hidden_state.detach() * mask[:, :, None]
            tensors[f"{name}/hidden"] = hidden
            tensors[f"{name}/mean"] = hidden.sum(1) / lengths[:, None]
            continue
        tensors[f"{name}/logits"] = model(padded, mask).logits.detach()
        train(tensors, name, model, padded, mask, labels)
    adapters(tensors, mask, labels, generator)
    for name in NETWORKS:  # what every reader ignores, and would change with the library's version
        path = f"{HERE}/{name}/config.json"
        config = json.load(open(path))
        config.pop("transformers_version", None)
        json.dump(config, open(path, "w"), indent=1)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")


main()
