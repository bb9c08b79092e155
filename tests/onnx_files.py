"""Runs the ONNX files of a folder that onnx_out wrote, and compares: for test_onnx.sh.
    onnx_files.py FOLDER
Each file must pass onnx.checker with shape inference, and its first output must agree with NAME.out within
1e-5 of the largest number, for the batch and length that it was written with."""
import glob
import os
import sys

import numpy as np
import onnx
import onnxruntime

folder = sys.argv[1]
passed = failed = 0


def check(name, good, what):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print(f"FAILED {name}: {what}")


for path in sorted(glob.glob(os.path.join(folder, "*.onnx"))):
    name = os.path.basename(path)[:-5]
    try:
        onnx.checker.check_model(path, full_check=True)
        check(name, True, "")
    except Exception as error:
        check(name, False, f"onnx.checker: {str(error)[:300]}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {}
        for i, x in enumerate(session.get_inputs()):
            kind = {"tensor(int64)": np.int64, "tensor(uint8)": np.uint8}.get(x.type, np.float32)
            sizes = [{"N": 2, "L": 5}.get(size, size) for size in x.shape]
            feed[x.name] = np.fromfile(os.path.join(folder, f"{name}.{i}"), dtype=kind).reshape(sizes)
        y = session.run(None, feed)[0]
        alone = session.run(None, {key: x[:1] for key, x in feed.items()})[0] # another batch
    except Exception as error:
        check(name, False, f"ONNX Runtime: {str(error)[:300]}")
        continue
    want = np.fromfile(os.path.join(folder, f"{name}.out"), dtype=y.dtype)
    declared = [{"N": 2, "L": 5}.get(size, size) for size in session.get_outputs()[0].shape]
    check(name, list(y.shape) == declared, f"shape {y.shape}, declared {declared}")
    if y.size != want.size:
        check(name, False, f"{y.size} numbers, not {want.size}")
        continue
    off = np.abs(y.reshape(-1).astype(np.float64) - want).max()
    largest = np.abs(want).max()
    if session.get_outputs()[0].shape[0] == "N":
        check(name, np.abs(alone - y[:1]).max() <= 1e-5 * largest, "a batch of one gives something else")
    check(name, off <= 1e-5 * largest and largest > 0.01, f"off by {off:g} of {largest:g}")
print(f"test_onnx: {passed} passed, {failed} failed, 0 skipped")
sys.exit(failed > 0)
