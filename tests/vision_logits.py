"""Loads build/vision_NAME.safetensors, which test_vision_transformers trained ten steps and saved, into
the libraries that the networks come from, and build/adapter_vit by PEFT; compares the logits. Run by
tests/test_vision.sh; without timm or torchvision their networks are skipped."""
import json
import os
import shutil

import numpy as np
import peft
import torch
import transformers as hf
from safetensors.torch import load_file

from checks import check, finish, skip

BASE = "tests/golden/vision"
expected = load_file(f"{BASE}/expected.safetensors")
pictures = expected["pictures"]


def compare(name, model, want, tolerance):
    with torch.no_grad():
        got = model.eval()(pictures)
    got = got if isinstance(got, torch.Tensor) else got.logits
    check((got - want).abs().max() <= tolerance * want.abs().max(), f"{name}: {got} instead of {want}")


def config_of(name):
    return json.load(open(f"{BASE}/{name}/config.json"))


for name in ("vit", "vit_tanh", "deit", "deit_teacher", "dinov2"):  # a folder, as people have it
    folder = f"build/vision_{name}"
    os.makedirs(folder, exist_ok=True)
    shutil.copy(f"{BASE}/{name}/config.json", folder)
    shutil.copy(f"build/vision_{name}.safetensors", f"{folder}/model.safetensors")
    kind = getattr(hf, config_of(name)["architectures"][0])
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    check(not any(info.values()), f"{name}: {info}")
    compare(name, model, expected[f"{name}/after"], 1e-3)

FILES = {
    "vit5": lambda: hf.ViTForImageClassification(hf.ViTConfig(**config_of("vit"))),
    "dinov2_5": lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**config_of("dinov2"))),
}
SIZES = dict(img_size=12, patch_size=4, embed_dim=16, depth=2, num_heads=4, mlp_ratio=1.5, num_classes=3)
try:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer as Timm
    FILES["timm"] = lambda: Timm(**SIZES)
    FILES["timm_scale"] = lambda: Timm(**SIZES, init_values=0.5)
    FILES["timm_deit"] = lambda: VisionTransformerDistilled(**SIZES)
except ImportError:
    skip(3)
try:
    from torchvision.models.vision_transformer import VisionTransformer
    FILES["torchvision"] = lambda: VisionTransformer(12, 4, 2, 4, 16, 24, num_classes=3)
except ImportError:
    skip()
for name, make in FILES.items():
    model = make()
    model.load_state_dict(load_file(f"build/vision_{name}.safetensors"), strict=True)
    compare(name, model, expected[f"{name}/after"], 1e-3)

model = hf.ViTForImageClassification.from_pretrained(f"{BASE}/vit")
model = peft.PeftModel.from_pretrained(model, "build/adapter_vit")
tensors = load_file("build/adapter_vit/adapter_model.safetensors")
ours = peft.get_peft_model_state_dict(model)
check(sorted(tensors) == sorted(ours), f"adapter: names {sorted(set(tensors) ^ set(ours))}")
want = np.fromfile("build/adapter_vit/logits.f32", np.float32).reshape(3, 3)
compare("adapter", model, torch.from_numpy(want), 1e-4)
finish("test_vision")
