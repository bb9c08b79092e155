"""Loads each adapter of build/adapter_NAME beside its base by PEFT, and compares the logits with those
that finetune.h gave; nothing may be missing or left over. Run by tests/test_peft.sh."""
import sys
import warnings

import numpy as np
import peft
import torch
import transformers as hf
from safetensors.torch import load_file

sys.path.append("tests/golden")
import make_adapters  # noqa: E402
from checks import check, finish  # noqa: E402

BASE = "tests/golden/encoders"


def compare(name, model, *inputs, **masks):
    """The adapter of test_encoders or test_decoders beside its base."""
    folder = f"build/adapter_{name}"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(model, folder).eval()
    check(not [w for w in said if "missing" in str(w.message).lower()], f"{name}: {[str(w.message) for w in said]}")
    tensors = load_file(f"{folder}/adapter_model.safetensors")
    ours = peft.get_peft_model_state_dict(model)
    check(sorted(tensors) == sorted(ours), f"{name}: names {sorted(set(tensors) ^ set(ours))}")
    with torch.no_grad():
        got = model(*inputs, **masks)
    got = getattr(got, "logits", got).numpy()
    want = np.fromfile(f"{folder}/logits.f32", np.float32).reshape(got.shape)
    check(np.abs(got - want).max() <= 1e-4 * np.abs(want).max(), f"{name}: {got} instead of {want}")


expected = load_file(f"{BASE}/expected.safetensors")
lengths = expected["lengths"].long()
mask = (torch.arange(9) < lengths[:, None]).long()
for name, base in (("lora", "bert"), ("rslora", "roberta"), ("dora", "bert"), ("words", "distilbert")):
    model = hf.AutoModelForSequenceClassification.from_pretrained(f"{BASE}/{base}")
    compare(name, model, expected[f"{name}/ids"].long(), attention_mask=mask)
expected = load_file("tests/golden/adapters/expected.safetensors")
for name in ("dora_mixed", "bias_mixed"):
    model = make_adapters.Network()
    model.load_state_dict(load_file("tests/golden/adapters/base.safetensors"))
    compare(name, model, expected["pictures"], expected["ids"].long())
BASE = "tests/golden/decoders"
ids = load_file(f"{BASE}/expected.safetensors")["ids"].long()
compare("gpt2_lora", hf.AutoModelForCausalLM.from_pretrained(f"{BASE}/gpt2"), ids,
        attention_mask=torch.ones_like(ids))
model = hf.AutoModelForSequenceClassification.from_pretrained(f"{BASE}/llama_classes")
compare("llama_lora", model, torch.where(mask.bool(), ids, 1), attention_mask=mask)
finish("test_peft")
