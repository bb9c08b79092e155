#!/usr/bin/env python3
"""Writes pictures.safetensors: forms of picture files that decoders disagree about, and what Pillow makes of them.

    python3 tests/golden/make_pictures.py          (Pillow, numpy)

file/NAME.ext        U8, an encoded picture; pixels/NAME.ext U8 [H, W, 3]: exif_transpose, then convert("RGB")
refused/NAME.ext     U8, damaged, or of a form that Pillow reads as something that it is not
"""
import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

random = np.random.default_rng(15)
tensors = {}
W, H = 11, 7
noise = random.integers(0, 256, (H, W, 4), dtype=np.uint8)
wide = random.integers(0, 65536, (H, W, 4)).astype(">u2")
y, x = np.mgrid[0:H, 0:W]
smooth = np.stack([x * 20 + 10, y * 30 + 20, (x * 7 + y * 9) % 256], -1).astype(np.uint8)
smooth[2:5, 2:6] = [220, 20, 40]
RGB = Image.fromarray(smooth)


def accept(name, data):
    data = bytes(data)
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    tensors["file/" + name] = np.frombuffer(data, np.uint8)
    tensors["pixels/" + name] = np.asarray(picture.convert("RGB"))


def refuse(name, data):
    tensors["refused/" + name] = np.frombuffer(bytes(data), np.uint8)


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


# ---- PNG ----
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour, depth, rows, extra=b""):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, 0)) + extra
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows), 9)) + chunk(b"IEND", b""))


for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
    accept(f"colour{colour}.png", png(colour, 8, [noise[i, :, :channels].tobytes() for i in range(H)]))
    (accept if colour else refuse)(f"colour{colour}_16.png", png(colour, 16, [wide[i, :, :channels].tobytes() for i in range(H)]))
for depth in (1, 2, 4, 8):
    rows = [noise[i, :, 0].tobytes()[:(W * depth + 7) // 8] for i in range(H)]
    accept(f"grey{depth}.png", png(0, depth, rows))
    accept(f"palette{depth}_short.png", png(3, depth, rows, chunk(b"PLTE", bytes(range(60, 66)))))
    accept(f"palette{depth}_clear.png", png(3, depth, rows, chunk(b"PLTE", bytes(range(200, 206))) + chunk(b"tRNS", b"\0\x80")))
accept("key.png", png(2, 8, [noise[i, :, :3].tobytes() for i in range(H)], chunk(b"tRNS", b"\0\x10\0\x20\0\x30")))
exif = Image.Exif()
exif[0x0112] = 6
accept("orientation6.png", saved(RGB, "PNG", exif=exif))
good = bytearray(saved(RGB, "PNG"))
at = good.index(b"IDAT") + 20
refuse("flipped.png", good[:at] + bytes([good[at] ^ 4]) + good[at + 1:])
refuse("inflates.png", png(2, 8, [three.tobytes() for three in noise[:, :, :3]] + [bytes(400000)]))
refuse("no_pixels.png", good[:33] + chunk(b"IEND", b""))
refuse("apple.png", good[:8] + chunk(b"CgBI", b"\0\0\0\0") + good[8:])
refuse("60000x60000.png", good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + good[33:])
refuse("8000x8000.png", good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0)) + good[33:])


# ---- BMP ----
def bmp(bits, rows, height=H, palette=b"", compression=0, masks=b"", header=40, used=0, gap=0, extra=b""):
    if header == 12:
        info = struct.pack("<IHHHH", 12, W, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, W, height, 1, bits, compression, 0, 0, 0, used, 0) + extra
    body = info + masks + palette + b"\0" * gap
    rows = b"".join(r + b"\0" * (-len(r) % 4) for r in rows)
    return b"BM" + struct.pack("<IHHI", 14 + len(body) + len(rows), 0, 0, 14 + len(body)) + body + rows


three = [noise[i, :, :3].tobytes() for i in range(H)]
four = [noise[i].tobytes() for i in range(H)]
two = [noise[i, :, :2].tobytes() for i in range(H)]
bgra = struct.pack("<IIIII", 0xff0000, 0xff00, 0xff, 0xff000000, 0)
accept("up24.bmp", bmp(24, three))
accept("down24.bmp", bmp(24, three, -H))
accept("up32.bmp", bmp(32, four))
accept("down32.bmp", bmp(32, four, -H))
accept("os2_24.bmp", bmp(24, three, header=12))
accept("gap24.bmp", bmp(24, three, gap=30))
accept("v5_24.bmp", bmp(24, three, -H, header=124, extra=b"\0" * 84))
accept("16.bmp", bmp(16, two))
accept("565.bmp", bmp(16, two, compression=3, masks=struct.pack("<III", 0xf800, 0x7e0, 0x1f)))
accept("555.bmp", bmp(16, two, compression=3, masks=struct.pack("<III", 0x7c00, 0x3e0, 0x1f)))
accept("masks32.bmp", bmp(32, four, compression=3, masks=struct.pack("<III", 0xff000000, 0xff0000, 0xff00)))
accept("v3_32.bmp", bmp(32, four, compression=3, header=56, extra=bgra[:16]))
accept("v4_32.bmp", bmp(32, four, compression=3, header=108, extra=bgra + b"\0" * 48))
for bits in (1, 4, 8):
    rows = [noise[i, :, 0].tobytes()[:(W * bits + 7) // 8] for i in range(H)]
    colours = random.integers(0, 256, (1 << bits, 4), dtype=np.uint8)
    accept(f"palette{bits}.bmp", bmp(bits, rows, palette=colours.tobytes()))
    accept(f"palette{bits}_down.bmp", bmp(bits, rows, -H, palette=colours.tobytes()))
    accept(f"palette{bits}_os2.bmp", bmp(bits, rows, palette=colours[:, :3].tobytes(), header=12))
    if bits > 1:
        accept(f"palette{bits}_short.bmp", bmp(bits, rows, palette=colours[:10].tobytes(), used=10))
refuse("masks10.bmp", bmp(32, four, compression=3, masks=struct.pack("<III", 0x3ff00000, 0xffc00, 0x3ff)))
refuse("runs.bmp", bmp(8, [b"\x0b\1\0\0"] * H, compression=1, palette=b"\0" * 1024))

# ---- PPM and PGM ----
for largest in (1, 15, 100, 254, 255):
    values = (noise[..., :3].astype(int) % (largest + 1)).astype(np.uint8)
    accept(f"{largest}.ppm", b"P6\n%d %d\n%d\n" % (W, H, largest) + values.tobytes())
    accept(f"{largest}.pgm", b"P5\n%d %d\n%d\n" % (W, H, largest) + values[..., 0].tobytes())
accept("above.ppm", b"P6\n%d %d\n100\n" % (W, H) + noise[..., :3].tobytes())
accept("comments.ppm", b"P6 # one\n# two\n%d # three\n %d\n#four\n255\n" % (W, H) + noise[..., :3].tobytes())
refuse("65535.pgm", b"P5\n%d %d\n65535\n" % (W, H) + wide[..., 0].tobytes())
refuse("0.ppm", b"P6\n%d %d\n0\n" % (W, H) + noise[..., :3].tobytes())

# ---- GIF ----
P = RGB.quantize(16)
accept("plain.gif", saved(P, "GIF"))
accept("clear.gif", saved(P, "GIF", transparency=3))
accept("interlaced.gif", saved(P, "GIF", interlace=1))
accept("frames.gif", saved(P, "GIF", save_all=True, append_images=[ImageOps.invert(RGB).quantize(16)], transparency=2, disposal=2))
for clear in (0, 1):
    gif = bytearray(saved(P, "GIF", **({"transparency": 1} if clear else {})))
    at = gif.index(b"\x2c\0\0\0\0" + struct.pack("<HH", W, H))
    gif[6:10], gif[11], gif[at + 1:at + 5] = struct.pack("<HH", 20, 15), 3, struct.pack("<HH", 4, 5)
    accept(f"part{clear}.gif", gif)
    gif[at + 1:at + 3] = struct.pack("<H", 14)
    refuse(f"outside{clear}.gif", gif)
gif = bytearray(saved(P, "GIF"))
at = gif.index(b"\x2c\0\0\0\0") + 11
gif[at], gif[at + 1 + gif[at]:] = gif[at] // 2, b"\0;"
gif[at + 1 + gif[at]:] = b"\0;"
refuse("short.gif", gif)

# ---- JPEG ----
plain = saved(RGB, "JPEG", quality=95, subsampling=0)
accept("plain.jpg", plain)
accept("progressive.jpg", saved(RGB, "JPEG", quality=95, subsampling=0, progressive=True))
accept("restarts.jpg", saved(RGB, "JPEG", quality=95, subsampling=0, restart_marker_blocks=1))
accept("rgb.jpg", saved(RGB, "JPEG", quality=95, keep_rgb=True))
cmyk = saved(RGB.convert("CMYK"), "JPEG", quality=95)
at = cmyk.index(b"\xff\xee")
accept("cmyk.jpg", cmyk)
accept("cmyk_unmarked.jpg", cmyk[:at] + cmyk[at + 16:])
accept("ycck1.jpg", cmyk[:at + 15] + b"\1" + cmyk[at + 16:])
accept("ycck2.jpg", cmyk[:at + 15] + b"\2" + cmyk[at + 16:])
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    accept(f"orientation{orientation}.jpg", saved(RGB, "JPEG", quality=95, subsampling=0, exif=exif))
at = plain.index(b"\xff\xda") + 14
refuse("cut_and_ended.jpg", plain[:at + (len(plain) - at) // 2] + b"\xff\xd9")
refuse("flipped.jpg", plain[:at + 30] + bytes([plain[at + 30] ^ 0x20]) + plain[at + 31:])
refuse("piece_lost.jpg", plain[:at + 30] + plain[at + 40:])
restarts = saved(RGB, "JPEG", quality=95, subsampling=0, restart_marker_blocks=1)
at = restarts.index(b"\xff\xd0")
refuse("restart_lost.jpg", restarts[:at] + restarts[at + 2:])
refuse("no_scan.jpg", plain[:plain.index(b"\xff\xda")] + b"\xff\xd9")
at = plain.index(b"\xff\xdb")
refuse("no_quantisation.jpg", plain[:at] + plain[at + 69:])
at = plain.index(b"\xff\xc0")
refuse("65500x65500.jpg", plain[:at + 5] + struct.pack(">HH", 65500, 65500) + plain[at + 9:])
refuse("9000x9000.jpg", plain[:at + 5] + struct.pack(">HH", 9000, 9000) + plain[at + 9:])

header, data = {}, b""
for name, value in tensors.items():
    header[name] = {"dtype": "U8", "shape": list(value.shape), "data_offsets": [len(data), len(data) + value.size]}
    data += value.tobytes()
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures.safetensors")
with open(path, "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
print(f"{len(tensors)} tensors, {os.path.getsize(path)} bytes: {path}")
