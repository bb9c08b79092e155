"""Makes tests/golden/formats/tf*: small tensor bundles, written here as tensor_bundle.cc and table_builder.cc do.

    python3 tests/golden/make_bundles.py        (needs numpy from PyPI)

TensorFlow itself is not needed: test_formats.c reads a file of TensorFlow's too, where FINETUNE_DATA is. tf1 is a
checkpoint of TensorFlow 1 in two data files, tf2 one of TensorFlow 2 with a graph of objects. Their values are
arange / 4.
"""
import os
import struct

import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n)


def chunk(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    crc ^= 0xffffffff
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff  # masked


def block(entries, interval):
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))


def table(entries, per_block):
    out, handles = b"", []

    def put(content):
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        out += content + b"\0" + struct.pack("<I", crc32c(content + b"\0"))
        return handle
    for i in range(0, len(entries), per_block):
        some = entries[i:i + per_block]
        handles.append((some[-1][0] + b"\0", put(block(some, 16))))
    meta, index = put(block([], 1)), put(block(handles, 1))
    return out + (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xdb4775248b80fb57)


def bundle(name, variables, shards, per_block):
    data, entries = [b""] * shards, [(b"", number(1, shards) + chunk(3, number(1, 1)))]
    for i, (key, value) in enumerate(sorted(variables.items())):
        shard = i % shards
        if isinstance(value, bytes):  # a text of one element
            content = varint(len(value)) + struct.pack("<I", crc32c(struct.pack("<I", len(value)))) + value
            head = number(1, 7) + chunk(2, b"")
        else:
            content = np.ascontiguousarray(value).tobytes()
            head = number(1, TYPES[value.dtype.name]) + chunk(2, b"".join(chunk(2, number(1, n)) for n in value.shape))
        head += number(3, shard) if shard else b""
        head += number(4, len(data[shard])) if data[shard] else b""
        entries.append((key.encode(), head + number(5, len(content)) + varint(6 << 3 | 5) + struct.pack("<I", crc32c(content))))
        data[shard] += content
    with open(f"{OUT}/{name}.index", "wb") as file:
        file.write(table(entries, per_block))
    for i, content in enumerate(data):
        with open(f"{OUT}/{name}.data-{i:05d}-of-{shards:05d}", "wb") as file:
            file.write(content)


def ramp(*shape, dtype=np.float32):
    return (np.arange(int(np.prod(shape))).reshape(shape) / 4).astype(dtype)


bundle("tf1", {"net/conv/weights": ramp(2, 3, 2, 4), "net/conv/weights/Adam": ramp(2, 3, 2, 4), "net/conv/biases": ramp(4),
               "net/conv/weights/Adam_1": ramp(2, 3, 2, 4), "net/depth/depthwise_weights": ramp(2, 2, 3, 2),
               "net/conv/BatchNorm/gamma": ramp(4), "net/conv/BatchNorm/moving_variance": ramp(4),
               "net/fc/kernel": ramp(2, 3, dtype=np.float64), "net/Adam": ramp(3), "a": ramp(2, 3),
               "global_step": np.array(7, np.int64), "beta1_power": ramp(), "half": ramp(3, dtype=np.float16)}, 2, 5)

ATTRIBUTE = "/.ATTRIBUTES/VARIABLE_VALUE"


def named(key, full_name):  # an object whose variable Keras called so
    return chunk(1, chunk(2, chunk(1, b"VARIABLE_VALUE") + chunk(2, full_name.encode()) + chunk(3, (key + ATTRIBUTE).encode())))


graph = named("layer-0/kernel", "stem/kernel") + named("layer-0/bias", "stem/bias") + named("layer-1/gamma", "norm/gamma") \
    + named("layer-0/kernel/.OPTIMIZER_SLOT/optimizer/m", "Adam/stem/kernel/m")
bundle("tf2", {"_CHECKPOINTABLE_OBJECT_GRAPH": graph, "layer-0/kernel" + ATTRIBUTE: ramp(3, 2),
               "layer-0/bias" + ATTRIBUTE: ramp(2), "layer-1/gamma" + ATTRIBUTE: ramp(3),
               "layer-0/kernel/.OPTIMIZER_SLOT/optimizer/m" + ATTRIBUTE: ramp(3, 2),
               "layer-2/kernel" + ATTRIBUTE: ramp(1, 2), "a" + ATTRIBUTE: ramp(2, 3),
               "optimizer/iter" + ATTRIBUTE: np.array(3, np.int64), "save_counter" + ATTRIBUTE: np.array(1, np.int64)}, 1, 100)
bundle("tf_same", {"x/kernel": ramp(2, 3), "x/gamma": ramp(2)}, 1, 100)  # both would be x.weight
