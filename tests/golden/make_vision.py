"""Makes the folders and files that tests/test_vision_transformers.c loads.

    python3 tests/golden/make_vision.py     (needs torch, torchvision, transformers, timm, safetensors)

vision/NAME/        config.json and model.safetensors as transformers' save_pretrained writes them
vision/NAME.safetensors     state_dicts of timm, torchvision, and of transformers with the names that it
                    has in memory
vision/expected.safetensors
                    pictures [3, 3, S, S] and labels [3]; per NAME/logits; NAME/losses of ten steps of
                    AdamW (rate 1e-3, weight decay 0.01, no dropout), and NAME/after, the logits then;
                    NAME/larger: the logits of pictures of another size, `larger`. Names that end in
                    _bare have no head: NAME/hidden, the last hidden state.
                    positions/KIND [1, 1 + 25, 4], resized to 3 x 3 and 8 x 8 as KIND's library does:
                    positions/KIND/3, positions/KIND/8. photo [30, 21, 3] U8, and photo/KIND [3, 12, 12]:
                    resized by Pillow's bicubic, to a square of 16 (wide: of the photo with rows and
                    columns exchanged) or the shorter side to 16, then cut.
vision/dinov2_drop/, drop_path.safetensors    stochastic depth of 0.3 in dinov2_drop and timm_scale:
                    NAME/masks [layer, branch, picture], which it draws; NAME/logits and NAME/loss of
                    that step of training, and NAME/after, the logits after SGD's step of rate 0.1
vision/lora_vit/, lora_vit4/    adapters of vit by PEFT, with the names of versions 5 and 4 of
                    transformers; lora_vit/logits, losses and after as above
"""
import json
import os
import shutil

import numpy as np
import peft
import timm
import torch
import transformers as hf
from safetensors.torch import save_file
from PIL import Image
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from drawing import draw, draw_adapter, ten_steps

HERE = os.path.dirname(os.path.abspath(__file__)) + "/vision"
torch.set_num_threads(1)
SIDE, PATCH, HIDDEN, CLASSES = 12, 4, 16, 3
SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
         "patch_size": PATCH, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LABELS = {"id2label": {0: "ant", 1: "bee", 2: "cat"}, "label2id": {"ant": 0, "bee": 1, "cat": 2}}
TIMM = dict(img_size=SIDE, patch_size=PATCH, embed_dim=HIDDEN, depth=2, num_heads=4, mlp_ratio=1.5,
            num_classes=CLASSES)
FOLDERS = {
    "vit": hf.ViTForImageClassification(hf.ViTConfig(**SIZES, intermediate_size=24, **LABELS)),
    "vit_tanh": hf.ViTForImageClassification(hf.ViTConfig(
        **SIZES, intermediate_size=24, hidden_act="gelu_new", layer_norm_eps=1e-3, qkv_bias=False,
        **LABELS)),
    "deit": hf.DeiTForImageClassification(hf.DeiTConfig(**SIZES, intermediate_size=24, **LABELS)),
    "deit_teacher": hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(
        **SIZES, intermediate_size=24, **LABELS)),
    "dinov2": hf.Dinov2ForImageClassification(hf.Dinov2Config(**SIZES, mlp_ratio=2, **LABELS)),
    "dinov2_bare": hf.Dinov2Model(hf.Dinov2Config(**SIZES, mlp_ratio=2)),
}
FILES = {
    "timm": timm.models.vision_transformer.VisionTransformer(**TIMM),
    "timm_scale": timm.models.vision_transformer.VisionTransformer(**TIMM, init_values=0.5),
    "timm_deit": timm.models.deit.VisionTransformerDistilled(**TIMM),
    "torchvision": VisionTransformer(SIDE, PATCH, 2, 4, HIDDEN, 24, num_classes=CLASSES),
    "vit5": hf.ViTForImageClassification(hf.ViTConfig(**SIZES, intermediate_size=24, **LABELS)),
    "dinov2_5": hf.Dinov2ForImageClassification(hf.Dinov2Config(**SIZES, mlp_ratio=2, **LABELS)),
}


def near_one(key, p):
    return p.dim() == 1 and "weight" in key or "lambda1" in key or "gamma" in key


def logits_of(model, pictures, **more):
    y = model(pictures, **more)
    return y if isinstance(y, torch.Tensor) else y.logits


def describe(tensors, name, model, pictures, labels, larger):
    tensors[f"{name}/logits"] = logits_of(model, pictures).detach()
    if name.startswith("dinov2"):
        tensors[f"{name}/larger"] = logits_of(model, larger).detach()
    elif name in FOLDERS or name == "vit5":
        tensors[f"{name}/larger"] = logits_of(model, larger, interpolate_pos_encoding=True).detach()
    tensors[f"{name}/losses"] = ten_steps(model, lambda: torch.nn.functional.cross_entropy(
        logits_of(model, pictures), labels))
    tensors[f"{name}/after"] = logits_of(model, pictures).detach()


def photo(tensors, generator):
    pixels = torch.randint(0, 256, (30, 21, 3), generator=generator, dtype=torch.uint8)
    tensors["photo"] = pixels
    tall = Image.fromarray(pixels.numpy())
    wide = Image.fromarray(pixels.transpose(0, 1).contiguous().numpy())
    for kind, picture, sides in (("square", tall, (16, 16)), ("wide", wide, (16, 16)),
                                 ("edge", tall, (16, int(16 * 30 / 21)))):
        resized = np.asarray(picture.resize(sides, Image.BICUBIC)).astype(np.float32) / 255
        top, left = round((resized.shape[0] - 12) / 2), round((resized.shape[1] - 12) / 2)
        cut = (resized[top:top + 12, left:left + 12] - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        tensors[f"photo/{kind}"] = torch.from_numpy(cut.astype(np.float32)).permute(2, 0, 1)


def adapter(tensors, pictures, labels, generator):
    model = hf.ViTForImageClassification.from_pretrained(f"{HERE}/vit")
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "o_proj", "fc2"],
        modules_to_save=["classifier"]))
    draw_adapter(model, generator)
    model.save_pretrained(f"{HERE}/lora_vit")
    os.remove(f"{HERE}/lora_vit/README.md")
    path = f"{HERE}/lora_vit/adapter_config.json"
    config = json.load(open(path))
    config["base_model_name_or_path"] = "vit"
    config.pop("peft_version", None)
    config["target_modules"].sort()  # a set, whose order changes from run to run
    json.dump(config, open(path, "w"), indent=1, sort_keys=True)
    old = {"vit.layers": "vit.encoder.layer", "attention.q_proj": "attention.attention.query",
           "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense",
           "mlp.fc2": "output.dense"}
    renamed = {}
    for key, value in load_file(f"{HERE}/lora_vit/adapter_model.safetensors").items():
        for new, name in old.items():
            key = key.replace(new, name)
        renamed[key] = value
    os.mkdir(f"{HERE}/lora_vit4")
    save_file(renamed, f"{HERE}/lora_vit4/adapter_model.safetensors")
    config["target_modules"] = ["query", "value", "output.dense"]
    json.dump(config, open(f"{HERE}/lora_vit4/adapter_config.json", "w"), indent=1, sort_keys=True)
    tensors["lora_vit/logits"] = model(pictures).logits.detach()
    tensors["lora_vit/losses"] = ten_steps(model, lambda: torch.nn.functional.cross_entropy(
        model(pictures).logits, labels))
    tensors["lora_vit/after"] = model(pictures).logits.detach()


def drop_path(pictures, labels):
    """Own files, so that the others stay as they are."""
    masks = {"dinov2_drop": torch.tensor([[[1.0, 0, 1], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]]),
             "timm_scale": torch.tensor([[[1.0, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 1, 0]]])}
    dinov2 = hf.Dinov2ForImageClassification(hf.Dinov2Config(**SIZES, mlp_ratio=2, drop_path_rate=0.3, **LABELS))
    draw(dinov2, torch.Generator().manual_seed(32), near_one, 0.3)
    dinov2.save_pretrained(f"{HERE}/dinov2_drop")
    config = json.load(open(f"{HERE}/dinov2_drop/config.json"))
    config.pop("transformers_version", None)
    json.dump(config, open(f"{HERE}/dinov2_drop/config.json", "w"), indent=1)
    scale = timm.models.vision_transformer.VisionTransformer(**TIMM, init_values=0.5, drop_path_rate=0.3)
    scale.load_state_dict(load_file(f"{HERE}/timm_scale.safetensors"))
    tensors = {}
    for name, model in (("dinov2_drop", dinov2), ("timm_scale", scale)):
        left = [m for layer in masks[name] for m in layer if name == "dinov2_drop" or m.min() < 1]

        def given(self, x):
            return x * left.pop(0).reshape(-1, 1, 1) / (1 - self.drop_prob) if self.training else x
        hf.models.dinov2.modeling_dinov2.Dinov2DropPath.forward = given
        timm.layers.DropPath.forward = given
        model.train()
        logits = logits_of(model, pictures)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        assert not left
        torch.optim.SGD(model.parameters(), 0.1).step()
        model.eval()
        tensors[f"{name}/masks"] = masks[name]
        tensors[f"{name}/logits"] = logits.detach()
        tensors[f"{name}/loss"] = loss.detach().reshape(1)
        tensors[f"{name}/after"] = logits_of(model, pictures).detach()
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/drop_path.safetensors")


def main():
    generator = torch.Generator().manual_seed(31)
    pictures = torch.randn(3, 3, SIDE, SIDE, generator=generator)
    larger = torch.randn(3, 3, 20, 20, generator=generator)
    labels = torch.tensor([2, 0, 1])
    tensors = {"pictures": pictures, "larger": larger, "labels": labels.int()}
    shutil.rmtree(HERE, ignore_errors=True)
    os.mkdir(HERE)
    for name, model in FOLDERS.items():
        draw(model, generator, near_one, 0.3)
        model.save_pretrained(f"{HERE}/{name}")
        path = f"{HERE}/{name}/config.json"
        config = json.load(open(path))
        config.pop("transformers_version", None)  # what every reader ignores, and would change
        json.dump(config, open(path, "w"), indent=1)
        if name.endswith("_bare"):
            tensors[f"{name}/hidden"] = model(pictures).last_hidden_state.detach()
            tensors[f"{name}/larger"] = model(larger).last_hidden_state.detach()
        else:
            describe(tensors, name, model, pictures, labels, larger)
    for name, model in FILES.items():
        draw(model, generator, near_one, 0.3)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, f"{HERE}/{name}.safetensors")
        describe(tensors, name, model, pictures, labels, larger)
    table = torch.randn(1, 26, 4, generator=generator)
    for side in (3, 8):
        square = table[:, 1:].reshape(1, 5, 5, 4).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(square, (side, side), mode="bicubic", align_corners=False)
        resized = resized.permute(0, 2, 3, 1).reshape(1, -1, 4)
        tensors[f"positions/position_embeddings/{side}"] = torch.cat([table[:, :1], resized], 1)
        tensors[f"positions/pos_embed/{side}"] = resample_abs_pos_embed(table, [side, side])
        state = interpolate_embeddings(side * 4, 4, {"encoder.pos_embedding": table})
        tensors[f"positions/pos_embedding/{side}"] = state["encoder.pos_embedding"]
    tensors["positions/table"] = table
    photo(tensors, generator)
    adapter(tensors, pictures, labels, generator)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")
    drop_path(pictures, labels)


main()
