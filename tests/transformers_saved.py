"""Loads each build/decoder_NAME.safetensors, trained ten steps and saved by test_decoders, into transformers'
network of that name: no name or shape may be missing, left over or other, and the logits are those that
finetune.h gave. Run by tests/test_transformers.sh."""
import glob
import os
import shutil

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file

from checks import check, finish

BASE = "tests/golden/decoders"
expected = load_file(f"{BASE}/expected.safetensors")
ids, lengths = expected["ids"].long(), expected["lengths"].long()
mask = (torch.arange(9) < lengths[:, None]).long()
folder = "build/decoder_saved"
names = [os.path.dirname(path).split("/")[-1] for path in sorted(glob.glob(f"{BASE}/*/config.json"))]
check(len(names) == 8, f"networks: {names}")
for name in names:
    classes = name.endswith("_classes")
    kind = hf.AutoModelForSequenceClassification if classes else hf.AutoModelForCausalLM
    tensors = load_file(f"build/decoder_{name}.safetensors")
    os.makedirs(folder, exist_ok=True)
    shutil.copy(f"{BASE}/{name}/config.json", folder)
    shutil.copy(f"build/decoder_{name}.safetensors", f"{folder}/model.safetensors")
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    check(not any(info.values()), f"{name}: {info}")
    if model.config.tie_word_embeddings and not classes:  # one tensor in the file, two names in a state_dict
        tensors["lm_head.weight"] = tensors[next(k for k in tensors if "wte" in k or "embed_tokens" in k)]
    again = kind.from_config(model.config)
    again.load_state_dict(tensors, strict=True)
    for network in (model.eval(), again.eval()):
        with torch.no_grad():
            got = network(torch.where(mask.bool(), ids, 1), attention_mask=mask).logits if classes \
                else network(ids).logits
        got = got.numpy()
        want = np.fromfile(f"build/decoder_{name}.f32", np.float32).reshape(got.shape)
        check(np.abs(got - want).max() <= 1e-4 * np.abs(want).max(), f"{name}: off by {np.abs(got - want).max()}")
finish("test_transformers")
