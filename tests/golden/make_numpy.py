"""Makes tests/golden/formats/np_*: small .npy and .npz files as NumPy writes them.

    python3 tests/golden/make_numpy.py        (needs numpy from PyPI)

`a` is arange(6) / 4 as [2, 3] in each of them. test_formats.c reads them, cuts them at every byte and
flips their bits.
"""
import io
import os
import zipfile

import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
a = np.arange(6, dtype=np.float32).reshape(2, 3) / 4

np.save(f"{OUT}/a.npy", a)
with open(f"{OUT}/np_v2.npy", "wb") as file:
    np.lib.format.write_array(file, np.asfortranarray(a.astype(">f8")), version=(2, 0))
with open(f"{OUT}/np_v3.npy", "wb") as file:
    np.lib.format.write_array(file, np.array([(1, 2.5)], dtype=[("größe", "<i4"), ("b", "<f8")]), version=(3, 0))
types = {"a": a, "f16": a.astype("<f2"), "f64": a.astype("<f8"), "f16_big": a.astype(">f2"), "f32_big": a.astype(">f4"),
         "i8": np.array([-3, 3], "i1"), "u8": np.array([0, 255], "u1"), "bool": np.array([True, False]),
         "i16": np.array([-3, 300], "<i2"), "u16": np.array([1, 65535], ">u2"),
         "i32": np.array([-7, 7], ">i4"), "u32": np.array([1, 2**31 + 1], "<u4"),
         "i64": np.array([-3, 2**40]), "i64_big": np.array([-3, 2**40], ">i8"), "u64": np.array([1, 2**63], "<u8"),
         "turned": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
         "scalar": np.float32(2.5), "empty": np.zeros((0, 3), np.float32), "layer/0.weight": a[0],
         "noise": np.random.default_rng(1).integers(0, 255, 400).astype("u1")}
np.savez(f"{OUT}/np_types.npz", **types)
np.savez_compressed(f"{OUT}/np_deflated.npz", **types,
                    run=np.arange(3000, dtype="<i4") // 7)
with zipfile.ZipFile(f"{OUT}/np_mixed.npz", "w") as archive:  # as other programs may write it
    for name, array, kind in [("a", a, zipfile.ZIP_STORED), ("b", a[1], zipfile.ZIP_DEFLATED)]:
        content = io.BytesIO()
        np.save(content, array)
        archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), kind)
    archive.writestr(zipfile.ZipInfo("read.me"), "no array")
with zipfile.ZipFile(f"{OUT}/np_bzip2.npz", "w", zipfile.ZIP_BZIP2) as archive, archive.open("a.npy", "w") as file:
    np.lib.format.write_array(file, a)
np.savez(f"{OUT}/np_others.npz", a=a, objects=np.array([{}, None]), text=np.array(["x", "yz"]), bytes=np.array([b"x"]),
         complex=np.array([1j]), dates=np.array(["2020-01-01"], "M8[D]"), void=np.zeros(2, "V2"),
         structure=np.zeros(2, [("x", "<f4"), ("y", "<i4", (2,))]), long=np.zeros(2, np.longdouble))

# Data: pictures whose bytes are (37 * i) % 251 in the order height, width, channel; numbers are i / 8.
pictures = (37 * np.arange(5 * 6 * 7 * 3) % 251).astype("u1").reshape(5, 6, 7, 3)
small = (37 * np.arange(2 * 3 * 4 * 3) % 251).astype("u1").reshape(2, 3, 4, 3)
numbers = (np.arange(4 * 8 * 8 * 3) / 8).astype("<f4").reshape(4, 8, 8, 3)
labels = np.array([2, 0, 1, 0, 2])
np.savez_compressed(f"{OUT}/data.npz", x=pictures, y=labels, first=np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)),
                    grey=pictures[..., 0], small=small, small_y=labels[:2].astype("u1"), last=numbers,
                    plain=np.ascontiguousarray(numbers.transpose(0, 3, 1, 2)), floats=labels / 4, wrong=labels - 1,
                    signed=labels.astype("i1"), four=labels[:4], goals=labels[:4] / 4, x_test=pictures[:2], y_test=labels[:2])
