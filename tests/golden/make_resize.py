#!/usr/bin/env python3
"""Writes resize.safetensors: what Pillow and torchvision make of small pictures.

    python3 tests/golden/make_resize.py          (Pillow, torch, torchvision, safetensors, numpy)

in/WxHxC                        U8 [H, W, C], a source
bilinear/WxHxC/VxU              U8 [U, V, C], the source resized by Pillow to V x U; or bicubic/
preprocess/cC_wW_hH_rR/N/in     U8 [H, W, 1 or 3]; .../out F32 [C, H, W] by torchvision
file/NAME.ext                   U8, an encoded picture; pixels/NAME.ext U8 [H, W, 3] by Pillow,
                                and luma/NAME.ext U8 [H, W], Pillow's convert("L")
"""
import io
import os

import numpy as np
import safetensors.numpy
import torch
from PIL import Image
from torchvision import transforms

random = np.random.default_rng(20240607)
tensors = {}
MODES = {1: Image.BILINEAR, 2: Image.BICUBIC}


def source(width, height, channels):
    """Noise in one half, only 0 and 255 in the other: bicubic overshoots there and is clipped."""
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels[height // 2:] = random.integers(0, 2, pixels[height // 2:].shape, dtype=np.uint8) * 255
    return pixels


def resize(pixels, width, height, mode):
    """Each channel by itself: Pillow would multiply by alpha what it takes for alpha."""
    planes = [Image.fromarray(np.ascontiguousarray(pixels[:, :, c])).resize((width, height), mode)
              for c in range(pixels.shape[2])]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def add_resizes():
    pairs = [((1, 1), [(1, 1), (2, 3), (7, 1), (16, 16)]),
             ((2, 1), [(1, 1), (5, 4), (2, 9), (64, 2)]),
             ((1, 5), [(1, 2), (3, 1), (4, 20), (1, 5)]),
             ((17, 23), [(17, 23), (17, 8), (8, 23), (16, 22), (18, 24), (34, 26), (1, 1), (3, 30),
                         (31, 4)]),
             ((13, 11), [(8, 8), (20, 17), (13, 5), (4, 11), (10, 5), (10, 4), (9, 3)]),
             ((64, 3), [(1, 3), (2, 7), (63, 2), (65, 4), (120, 1)]),
             ((3, 100), [(3, 1), (2, 99), (6, 33), (1, 101)]),
             ((41, 37), [(28, 28), (7, 40), (43, 5), (39, 32)]),
             ((200, 2), [(3, 2), (1, 1), (199, 1)])]
    for (width, height), sizes in pairs:
        for channels in (1, 2, 3, 4):
            if channels != 3 and width * height > 180:
                continue
            pixels = source(width, height, channels)
            name = f"{width}x{height}x{channels}"
            tensors[f"in/{name}"] = pixels
            for to in sizes:
                for kind, mode in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
                    tensors[f"{kind}/{name}/{to[0]}x{to[1]}"] = resize(pixels, *to, mode)


def add_preprocessing():
    cases = [  # network's channels, width, height, resize; the picture's width, height, channels
        (3, 20, 20, 24, 33, 47, 3), (3, 20, 20, 24, 47, 33, 3), (3, 20, 20, 24, 24, 24, 3),
        (3, 19, 20, 26, 31, 55, 3), (3, 20, 17, 20, 50, 21, 3),
        (3, 20, 20, 16, 17, 30, 3), (3, 20, 20, 15, 15, 15, 3), (3, 21, 20, 12, 40, 13, 3),
        (3, 16, 12, 0, 33, 21, 3), (3, 16, 12, 0, 16, 12, 3), (3, 16, 12, 0, 5, 4, 3),
        (1, 14, 14, 16, 30, 20, 3), (1, 14, 14, 0, 30, 20, 3), (1, 14, 14, 0, 9, 20, 1),
        (3, 14, 14, 16, 20, 30, 1)]
    for number, (c, w, h, r, width, height, channels) in enumerate(cases):
        pixels = source(width, height, channels)
        picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        picture = picture.convert("RGB" if c == 3 else "L")
        size = transforms.Resize(r) if r else transforms.Resize((h, w))
        mean, std = ((.485, .456, .406), (.229, .224, .225)) if c == 3 else ((.1307,), (.3081,))
        whole = transforms.Compose([size, transforms.CenterCrop((h, w)), transforms.ToTensor(),
                                    transforms.Normalize(mean, std)])
        name = f"preprocess/c{c}_w{w}_h{h}_r{r}/{number}"
        tensors[name + "/in"] = pixels
        tensors[name + "/out"] = np.ascontiguousarray(whole(picture).to(torch.float32).numpy())


def add_file(name, picture, **options):
    data = io.BytesIO()
    picture.save(data, **options)
    tensors["file/" + name] = np.frombuffer(data.getvalue(), dtype=np.uint8)
    decoded = Image.open(io.BytesIO(data.getvalue()))
    decoded.load()
    tensors["pixels/" + name] = np.asarray(decoded.convert("RGB"))
    luma = decoded if decoded.mode == "L" else decoded.convert("RGB").convert("L")
    tensors["luma/" + name] = np.asarray(luma)


def add_files():
    y, x = np.mgrid[0:13, 0:18]
    smooth = np.stack([128 + 100 * np.sin(x / 7), 9 * y, 255 - 8 * x], axis=2).astype(np.uint8)
    colour = Image.fromarray(smooth)
    grey = colour.convert("L")
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray((x * 9).astype(np.uint8)))
    add_file("baseline.jpg", colour, format="JPEG", quality=92, subsampling=0)
    add_file("progressive.jpg", colour, format="JPEG", quality=92, progressive=True, subsampling=0)
    add_file("restart.jpg", colour, format="JPEG", quality=92, restart_marker_blocks=2,
             subsampling=0)
    add_file("grey.jpg", grey, format="JPEG", quality=92)
    add_file("colour.png", colour, format="PNG")
    add_file("grey.png", grey, format="PNG")
    add_file("alpha.png", alpha, format="PNG")
    add_file("palette.png", colour.quantize(16), format="PNG")
    add_file("bits.png", grey.convert("1"), format="PNG")
    add_file("palette.gif", colour.quantize(32), format="GIF")
    add_file("colour.bmp", colour, format="BMP")
    add_file("palette.bmp", colour.quantize(16), format="BMP")
    add_file("colour.ppm", colour, format="PPM")
    add_file("grey.pgm", grey, format="PPM")


add_resizes()
add_preprocessing()
add_files()
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resize.safetensors")
tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
safetensors.numpy.save_file(tensors, path)
print(path, os.path.getsize(path), "bytes,", len(tensors), "tensors")
