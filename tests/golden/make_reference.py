"""Makes tests/golden/reference.safetensors and picture.png: what PyTorch says of the real weights.

    FINETUNE_DATA=../shared/data python3 tests/golden/make_reference.py
                        (needs torch, torchvision, pillow, numpy and safetensors from PyPI)

resnet18/formula, mobilenet/formula   logits of inputs made by `formula` of make_goldens.py
resnet18/picture                      logits of picture.png, by Pillow: shorter side to 256,
                                      centre 224
resnet18/jpeg                         logits (float16) of the first ten ants and bees of the
                                      validation set; __metadata__["files"] names them
resnet20/right                        how many of cifar10_png/test it gets right
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import models, transforms

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_goldens import HERE, ResNet20, formula, same_padding  # noqa: E402

DATA = os.environ.get("FINETUNE_DATA", "../shared/data")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PHOTO = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224),
                            transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def make_picture(path):
    """Smooth colours with a few edges; 300 x 260."""
    y, x = np.mgrid[0:260, 0:300].astype(np.float64)
    red = 127 + 120 * np.sin(x / 23) * np.cos(y / 31)
    green = 255 * ((x - 150) ** 2 + (y - 120) ** 2 < 90 ** 2) * (0.5 + y / 520)
    blue = (x * 255 / 300 + 40 * ((x // 37 + y // 29) % 2)).clip(0, 255)
    pixels = np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, optimize=True)


def mobilenet(weights, x):
    """MobileNet v1 as its file has it: SAME padding, ReLU6, eps 1e-3."""
    def layer(x, conv, norm, kernel, stride, groups=1):
        w = weights[f"{conv}.weight"]
        x = F.conv2d(same_padding(x, kernel, stride), w, None, stride, groups=groups)
        p = [weights[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.relu6(F.batch_norm(x, *p, False, 0.1, 1e-3))

    x = layer(x, "features.0.conv", "features.0.bn", 3, 2)
    for i in range(1, 14):
        stride = 2 if i in (2, 4, 6, 12) else 1
        x = layer(x, f"features.{i}.dw_conv", f"features.{i}.dw_bn", 3, stride, x.shape[1])
        x = layer(x, f"features.{i}.pw_conv", f"features.{i}.pw_bn", 1, 1)
    return F.linear(x.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


@torch.no_grad()
def main():
    tensors = {}
    net = models.resnet18()
    net.load_state_dict(load_file(f"{DATA}/weights/resnet18_imagenet.safetensors"))
    net.eval()
    tensors["resnet18/formula"] = net(formula("input", (2, 3, 224, 224), -2, 2))
    make_picture(f"{HERE}/picture.png")
    tensors["resnet18/picture"] = net(PHOTO(Image.open(f"{HERE}/picture.png"))[None])
    files = []
    for name in ("ants", "bees"):
        folder = f"images/ants_bees/val/{name}"
        files += [f"{folder}/{f}" for f in sorted(os.listdir(f"{DATA}/{folder}"))[:10]]
    photos = [PHOTO(Image.open(f"{DATA}/{f}").convert("RGB")) for f in files]
    tensors["resnet18/jpeg"] = net(torch.stack(photos)).half()
    weights = load_file(f"{DATA}/weights/mobilenet_v1_025_224.safetensors")
    tensors["mobilenet/formula"] = mobilenet(weights, formula("input", (1, 3, 224, 224), -1, 1))

    small = ResNet20()
    small.load_state_dict(load_file(f"{DATA}/weights/resnet20_cifar10.safetensors"), strict=False)
    small.eval()
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    right, folder = 0, f"{DATA}/images/cifar10_png/test"
    for label, name in enumerate(sorted(os.listdir(folder))):
        batch = [plain(Image.open(f"{folder}/{name}/{f}").convert("RGB"))
                 for f in sorted(os.listdir(f"{folder}/{name}"))]
        right += (small(torch.stack(batch)).argmax(1) == label).sum().item()
    tensors["resnet20/right"] = torch.tensor([right], dtype=torch.int32)
    print("resnet20:", right, "right")
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/reference.safetensors",
              {"files": json.dumps(files)})


main()
