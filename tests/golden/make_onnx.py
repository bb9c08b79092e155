"""Makes onnx.safetensors and, of masks and of more operators, onnx_masks.safetensors and onnx_operators.safetensors, for
tests/test_formats.c: small ONNX graphs, and what ONNX Runtime gives of them.

    python3 tests/golden/make_onnx.py    (needs onnx, onnxruntime, numpy and safetensors from PyPI)

For each CASE: the file CASE/file as bytes, the inputs CASE/in0, CASE/in1, ... (of a batch of 2, sequences of
5 steps) in the order of the graph, and the outputs CASE/out0, .... A case that must be refused has no outputs
but CASE/refused, texts of the message that are separated by |.
"""
import os

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
corpus = os.path.join(HERE, "..", "fuzz", "corpus", "onnx")
N, L = 2, 5
rng = np.random.RandomState(7)
tensors = {}
quiet = onnxruntime.SessionOptions()
quiet.log_severity_level = 3
quiet.intra_op_num_threads = 1


def draw(*shape, scale=0.5):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def ints(*numbers):
    return np.array(numbers, np.int64)


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def case(name, nodes, inputs, weights=None, outputs="y", opset=17, refused=None, raw=True, low=None):
    """inputs: {name: shape with "N", "L" or a number}; shape ends with int for ids"""
    infos, feeds = [], {}
    for key, shape in inputs.items():
        ids = shape[-1] is int
        sizes = [s for s in shape if s is not int]
        actual = [{"N": N, "L": L, "h": 1, "w": 1}.get(s, s) for s in sizes]
        feeds[key] = rng.randint(0, 7, actual).astype(np.int64) if ids else draw(*actual, scale=1)
        if low is not None and not ids:
            feeds[key] = np.abs(feeds[key]) + np.float32(low)
        infos.append(helper.make_tensor_value_info(key, TensorProto.INT64 if ids else TensorProto.FLOAT, sizes))
    initialisers = []
    for key, value in (weights or {}).items():
        value = np.asarray(value)
        if raw:
            initialisers.append(numpy_helper.from_array(value, key))
        else:
            initialisers.append(helper.make_tensor(key, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape,
                                                   value.flatten().tolist()))
    outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs.split()]
    graph = helper.make_graph([nodes] if isinstance(nodes, onnx.NodeProto) else nodes, "g", infos, outs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="t")
    content = model.SerializeToString()
    tensors[f"{name}/file"] = np.frombuffer(content, np.uint8)
    if refused:
        tensors[f"{name}/refused"] = np.frombuffer(refused.encode(), np.uint8)
        return
    for i, value in enumerate(feeds.values()):
        tensors[f"{name}/in{i}"] = value.astype(np.int32) if value.dtype == np.int64 else value
    session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    for i, value in enumerate(session.run(outputs.split(), feeds)):
        value = value.astype(np.float32)
        assert np.isfinite(value).all() and np.abs(value).max() > 0.1, (name, value)
        tensors[f"{name}/out{i}"] = value


def save(name, seeds):
    """All cases since the last time: the golden NAME, and files that the fuzzer starts from."""
    save_file(tensors, os.path.join(HERE, f"{name}.safetensors"))
    for seed in seeds:
        with open(os.path.join(corpus, seed), "wb") as file:
            file.write(tensors[f"{seed}/file"].tobytes())
    print(len({k.split("/")[0] for k in tensors}), "cases in", name)
    tensors.clear()


ROWS, PICTURE, STEPS = {"x": ["N", 6]}, {"x": ["N", 4, 3, 4]}, {"x": ["N", "L", 6]}

# Activations and other functions of one number
for op, extra in {"Relu": {}, "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Softsign": {}, "HardSwish": {}, "Exp": {},
                  "Abs": {}, "Neg": {}, "Erf": {}, "Selu": {}, "LeakyRelu": {"alpha": 0.2}, "Elu": {"alpha": 1.5},
                  "Celu": {"alpha": 0.7}, "ThresholdedRelu": {"alpha": 0.4}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
                  "Identity": {}, "Reciprocal": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}}.items():
    case(op, node(op, "x", **extra), ROWS)
case("Log", node("Log", "x"), ROWS, low=0.1)
case("Sqrt", node("Sqrt", "x"), ROWS, low=0.1)
case("hard_sigmoid_of_torch", node("HardSigmoid", "x", alpha=1 / 6, beta=0.5), ROWS)
case("gelu20", node("Gelu", "x"), ROWS, opset=20)
case("gelu20_tanh", node("Gelu", "x", approximate="tanh"), ROWS, opset=20)
case("mish18", node("Mish", "x"), ROWS, opset=18)
case("clip7", node("Clip", "x", min=-0.5, max=0.75), ROWS, opset=7)
case("clip_relu6", node("Clip", "x a b"), ROWS, {"a": np.float32(0), "b": np.float32(6)})
case("clip_low", [node("Clip", "x a")], ROWS, {"a": np.float32(-0.25)})
case("softmax", node("Softmax", "x", axis=-1), STEPS, outputs="y")
case("softmax_channels", node("Softmax", "x", axis=1), PICTURE)
case("softmax7", node("Softmax", "x", axis=1), ROWS, opset=7)
case("log_softmax", node("LogSoftmax", "x", axis=-1), ROWS)
case("softmax_head", [node("Gemm", "x w", "h", transB=1), node("Softmax", "h")], ROWS, {"w": draw(4, 6)})
case("log_softmax_head", [node("Gemm", "x w", "h", transB=1), node("LogSoftmax", "h")], ROWS, {"w": draw(4, 6)})
case("prelu", node("PRelu", "x s"), PICTURE, {"s": draw(4, 1, 1)})

# Arithmetic, with numbers, vectors, constants of several axes, and nodes
case("add_number", node("Add", "x k"), ROWS, {"k": np.float32(1.5)})
case("number_minus", node("Sub", "k x"), ROWS, {"k": np.float32(1.5)})
case("number_over", node("Div", "k x"), ROWS, {"k": np.float32(1.5)})
case("over_number", node("Div", "x k"), ROWS, {"k": np.float32(-1.5)})
case("mul_vector", [node("Relu", "x", "h"), node("Mul", "h k")], PICTURE, {"k": draw(4, 1, 1)})
case("sub_of_input", node("Sub", "x k"), PICTURE, {"k": draw(1, 4, 1, 1)})
case("add_table", [node("Tanh", "x", "h"), node("Add", "h k")], PICTURE, {"k": draw(1, 4, 3, 4)})
case("add_nodes", [node("Relu", "x", "a"), node("Tanh", "x", "b"), node("Add", "a b")], ROWS)
case("mul_broadcast", [node("GlobalAveragePool", "x", "a"), node("Mul", "x a")], PICTURE)
case("max_min", [node("Max", "x k", "a"), node("Min", "a j")], ROWS, {"k": draw(6), "j": draw(1, 6)})
case("where", [node("Greater", "x k", "c"), node("Where", "c x j")], ROWS, {"k": np.float32(0.1), "j": draw(6)})
case("comparisons", [node("LessOrEqual", "x k", "a"), node("Not", "a", "b"), node("Greater", "x j", "c"),
                     node("Or", "b c", "d"), node("Cast", "d", "e", to=1), node("Sub", "x e")], ROWS,
     {"k": np.float32(0.1), "j": draw(6)})
case("pow", [node("Pow", "x k", "a"), node("Pow", "a j")], ROWS, {"k": np.float32(2), "j": np.float32(1.5)})

case("pow_of_nodes", [node("Abs", "x", "a"), node("Pow", "a x")], ROWS, low=0.1)
case("pow_of_vector", [node("Sigmoid", "x", "a"), node("Pow", "a k")], ROWS, {"k": draw(6)})

# Layers with weights
case("gemm", node("Gemm", "x w b", transB=1), ROWS, {"w": draw(4, 6), "b": draw(4)})
case("gemm_in_out7", node("Gemm", "x w b"), ROWS, {"w": draw(6, 4), "b": draw(4)}, opset=7)
case("gemm_no_bias", node("Gemm", "x w", transB=1), ROWS, {"w": draw(4, 6)}, opset=11)
case("matmul_add", [node("MatMul", "x w", "h"), node("Add", "b h")], STEPS, {"w": draw(6, 4), "b": draw(4)})
case("matmul_turned", [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t")], STEPS, {"w": draw(4, 6)})
case("typed_weights", node("Gemm", "x w b", transB=1), ROWS, {"w": draw(4, 6), "b": draw(4)}, raw=False)
case("half_weights", [node("Cast", "w", "v", to=1), node("MatMul", "x v")], ROWS, {"w": draw(6, 4).astype(np.float16)})
case("conv", node("Conv", "x w b", kernel_shape=[3, 2], pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]), PICTURE,
     {"w": draw(6, 4, 3, 2), "b": draw(6)})
case("conv_groups_bias_node", [node("Conv", "x w", "h", group=2, pads=[1, 1, 1, 1]), node("Reshape", "b s", "c"),
                               node("Add", "h c")], PICTURE, {"w": draw(6, 2, 3, 3), "b": draw(6), "s": ints(1, -1, 1, 1)})
case("conv_same_upper", node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2]), PICTURE, {"w": draw(2, 4, 3, 3)})
case("conv_same_lower", node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), PICTURE, {"w": draw(2, 4, 3, 3)})
case("conv_valid", node("Conv", "x w", auto_pad="VALID"), PICTURE, {"w": draw(2, 4, 3, 3)})
case("conv1d", node("Conv", "x w b", pads=[1, 2], strides=[2]), {"x": ["N", 4, 9]}, {"w": draw(3, 4, 3), "b": draw(3)})
case("conv1d_length", node("Conv", "x w", pads=[1, 1]), {"x": ["N", 4, "L"]}, {"w": draw(3, 4, 3)})
case("conv_transpose", node("ConvTranspose", "x w b", strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 0]), PICTURE,
     {"w": draw(4, 3, 3, 2), "b": draw(3)})
case("batch_norm", node("BatchNormalization", "x s b m v", epsilon=1e-3), PICTURE,
     {"s": draw(4), "b": draw(4), "m": draw(4), "v": np.abs(draw(4)) + np.float32(0.5)})
case("batch_norm1d", node("BatchNormalization", "x s b m v"), {"x": ["N", 4, 7]},
     {"s": draw(4), "b": draw(4), "m": draw(4), "v": np.abs(draw(4)) + np.float32(0.5)}, opset=9)
case("layer_norm", node("LayerNormalization", "x s b", axis=-1, epsilon=1e-3), STEPS, {"s": draw(6), "b": draw(6)})
case("layer_norm_no_bias", node("LayerNormalization", "x s"), STEPS, {"s": draw(6)})
case("instance_norm", node("InstanceNormalization", "x s b"), PICTURE, {"s": draw(4), "b": draw(4)})
case("group_norm21", node("GroupNormalization", "x s b", num_groups=2), PICTURE, {"s": draw(4), "b": draw(4)}, opset=21)
case("embedding", node("Gather", "w x"), {"x": ["N", "L", int]}, {"w": draw(7, 4)})

case("token_types_and_positions", [
    node("Shape", "x", "l", start=1, end=2), node("Shape", "x", "s"), node("Slice", "ids zero l one", "i"),
    node("Slice", "kinds zero l one", "k"), node("Expand", "k s", "t"), node("Gather", "w x", "a"), node("Gather", "v t", "b"),
    node("Gather", "u i", "c"), node("Add", "a b", "d"), node("Add", "d c")], {"x": ["N", "L", int]},
     {"w": draw(7, 4), "v": draw(2, 4), "u": draw(9, 4), "ids": np.arange(9).reshape(1, 9), "kinds": np.zeros((1, 9), np.int64),
      "zero": ints(0), "one": ints(1)})
case("steps_are_not_negative", [
    node("Shape", "x", "s", start=1, end=2), node("Squeeze", "s", "l"), node("Range", "zero l one", "r"),
    node("GreaterOrEqual", "r zero", "g"), node("Unsqueeze", "g two", "h"), node("Where", "h k j", "m"), node("Add", "x m", "a"),
    node("Softmax", "a", "p", axis=-1), node("IsNaN", "p", "q"), node("Where", "q k p", "t"), node("MatMul", "t w")], STEPS,
     {"zero": np.int64(0), "one": np.int64(1), "two": ints(1), "k": np.float32(0), "j": np.float32(-1e30), "w": draw(6, 4)})
case("first_step", [node("Tanh", "x", "h"), node("Gather", "h i", axis=1)], STEPS, {"i": np.int64(0)})

# Pooling and reductions
case("max_pool", node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 1], pads=[0, 1, 1, 1]), PICTURE)
case("max_pool_ceil", node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), PICTURE, opset=11)
case("average_pool", node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), PICTURE)
case("average_pool_counts", node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), PICTURE)
case("max_pool1d", node("MaxPool", "x", kernel_shape=[3], strides=[2]), {"x": ["N", 4, 9]})
case("global_max_pool", node("GlobalMaxPool", "x"), PICTURE)
case("global_average_pool1d", node("GlobalAveragePool", "x"), {"x": ["N", 4, "L"]})
case("reduce_mean", node("ReduceMean", "x", axes=[2, 3]), PICTURE)
case("reduce_mean18", node("ReduceMean", "x a", keepdims=0), PICTURE, {"a": ints(-1, 1)}, opset=18)
case("reduce_sum", node("ReduceSum", "x a", keepdims=0), PICTURE, {"a": ints(2)})
case("reduce_max_min", [node("ReduceMax", "x", "a", axes=[3]), node("ReduceMin", "a", axes=[1], keepdims=0)], PICTURE)

case("reduce_prod", node("ReduceProd", "x", axes=[-1]), PICTURE)
case("reduce_l2", node("ReduceL2", "x", axes=[1, 3], keepdims=0), PICTURE)
case("reduce_logsumexp", node("ReduceLogSumExp", "x", axes=[3], keepdims=0), PICTURE)

# Numbers that move
case("flatten", node("Flatten", "x"), PICTURE)
case("reshape_computed", [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Concat", "n rest", "t", axis=0),
                          node("Reshape", "x t")], PICTURE, {"zero": ints(0), "rest": ints(-1, 6)})
case("reshape_length", [node("Shape", "x", "s"), node("Slice", "s a b", "n"), node("Cast", "n", "m", to=6),
                        node("Cast", "m", "k", to=7), node("Concat", "k rest", "t", axis=0), node("Reshape", "x t", "h"),
                        node("Transpose", "h", perm=[0, 2, 1, 3])], STEPS,
     {"a": ints(0), "b": ints(2), "rest": ints(2, 3)})
case("batch_merged", [node("Reshape", "x a", "h"), node("MatMul", "h w", "g"), node("Shape", "x", "s"),
                      node("Slice", "s zero two", "n"), node("Concat", "n rest", "t", axis=0), node("Reshape", "g t")], STEPS,
     {"a": ints(-1, 6), "w": draw(6, 4), "zero": ints(0), "two": ints(2), "rest": ints(-1)})
case("heads_by_batch", [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Reshape", "t a", "h"),
                        node("Transpose", "h", "q", perm=[1, 0, 2]), node("Transpose", "h", "k", perm=[1, 2, 0]),
                        node("MatMul", "q k", "s"), node("Softmax", "s", "p", axis=-1), node("MatMul", "p q", "o"),
                        node("Transpose", "o", "v", perm=[1, 0, 2]), node("Reshape", "v b", "z"),
                        node("Transpose", "z", perm=[1, 0, 2])], {"x": ["N", 4, 6]}, {"a": ints(4, -1, 3), "b": ints(4, -1, 6)})
case("squeeze_unsqueeze", [node("Unsqueeze", "x a", "h"), node("Tanh", "h", "g"), node("Squeeze", "g a")], ROWS,
     {"a": ints(1)})
case("unsqueeze7", [node("Unsqueeze", "x", "h", axes=[0, 2]), node("Squeeze", "h", axes=[0])], ROWS, opset=7)
case("transpose", node("Transpose", "x", perm=[0, 2, 3, 1]), PICTURE)
case("slice", node("Slice", "x a b c d"), PICTURE, {"a": ints(-4, 1), "b": ints(2**63 - 1, -1), "c": ints(2, 3), "d": ints(2, 1)})
case("slice7", node("Slice", "x", axes=[1], starts=[1], ends=[3]), PICTURE, opset=7)
case("split", [node("Split", "x s", "a b c", axis=1), node("Mul", "a c", "d"), node("Concat", "d b a", axis=1)], PICTURE,
     {"s": ints(1, 2, 1)})
case("split_even11", [node("Split", "x", "a b", axis=3), node("Sub", "a b")], PICTURE, opset=11)
case("gather_one", node("Gather", "x i", axis=2), PICTURE, {"i": np.int64(-2)})
case("gather_some", node("Gather", "x i", axis=1), PICTURE, {"i": ints(1, 2)})
case("last_step", node("Gather", "x i", axis=1), STEPS, {"i": np.int64(-1)})
case("pad", node("Pad", "x p"), PICTURE, {"p": ints(0, 0, 1, 2, 0, 1, 0, 1)})
case("pad_reflect", node("Pad", "x p", mode="reflect"), PICTURE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)})
case("pad_value", node("Pad", "x p v"), PICTURE, {"p": ints(0, 0, 1, 2, 0, 1, 0, 1), "v": np.float32(-1.5)})
case("pad_edge", node("Pad", "x p", mode="edge"), PICTURE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)})
case("tile", node("Tile", "x r"), PICTURE, {"r": ints(1, 2, 1, 3)})
case("expand", [node("Unsqueeze", "x a", "h"), node("Expand", "h s")], ROWS, {"a": ints(1), "s": ints(3, 1)})
case("cumsum", node("CumSum", "x a", exclusive=1, reverse=1), PICTURE, {"a": np.int64(2)})
case("depth_to_space", node("DepthToSpace", "x", blocksize=2), PICTURE)
case("depth_to_space_crd", node("DepthToSpace", "x", blocksize=2, mode="CRD"), PICTURE, opset=11)
case("class_token", [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Concat", "n one size", "t", axis=0),
                     node("Expand", "token t", "e"), node("Concat", "e x", axis=1)], {"x": ["N", 4, 6]},
     {"zero": ints(0), "one": ints(1), "size": ints(6), "token": draw(1, 1, 6)})
for name, attributes in {"resize_nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                            "nearest_mode": "floor"}, "resize_linear": {"mode": "linear"},
                         "resize_corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"}}.items():
    case(name, helper.make_node("Resize", ["x", "", "f"], ["y"], **attributes), PICTURE,
         {"f": np.array([1, 1, 2, 1.5], np.float32)})
case("upsample9", node("Upsample", "x f", mode="nearest"), PICTURE, {"f": np.array([1, 1, 2, 2], np.float32)}, opset=9)

# Constants in nodes, an input with the channels last, a second input, several outputs
case("constants", [helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(draw(4, 6), "w")),
                   helper.make_node("Constant", [], ["k"], value_float=0.5), node("Gemm", "x w", "h", transB=1),
                   node("Mul", "h k")], ROWS, opset=13)
case("two_inputs", [node("Mul", "x p", "h"), node("Add", "h x")], {"x": ["N", 6], "p": ["N", 6]})
case("two_outputs", [node("Relu", "x"), node("MatMul", "y w", "z")], ROWS, {"w": draw(6, 4)}, outputs="y z")
case("tied", [node("Gather", "w x", "h"), node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "h t")],
     {"x": ["N", "L", int]}, {"w": draw(7, 4)})

# Recurrent layers: one direction and both, states in and out
for op, gates, extra in (("LSTM", 4, {}), ("GRU", 3, {"linear_before_reset": 1}), ("RNN", 1, {})):
    for both in (0, 1):
        d, h = 1 + both, 3
        case(f"{op}{d}", [node("Transpose", "x", "t", perm=[1, 0, 2]),
                          node(op, "t w r b", "s f", hidden_size=h, direction="bidirectional" if both else "forward", **extra),
                          node("Transpose", "s", "u", perm=[2, 0, 1, 3]), node("Reshape", "u all", "y"),
                          node("Transpose", "f", "g", perm=[1, 0, 2]), node("Flatten", "g", "z")], STEPS,
             {"w": draw(d, gates * h, 6), "r": draw(d, gates * h, h), "b": draw(d, 2 * gates * h), "all": ints(0, 0, d * h)},
             outputs="y z")
case("LSTM_zero_state", [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Shape", "x", "s"), node("Gather", "s zero", "n"),
                         node("Concat", "one n three", "k", axis=0), node("ConstantOfShape", "k", "o"),
                         helper.make_node("LSTM", ["t", "w", "r", "", "", "o", "o"], ["m"], hidden_size=3),
                         node("Squeeze", "m axis", "q"), node("Transpose", "q", perm=[1, 0, 2])], STEPS,
     {"w": draw(1, 12, 6), "r": draw(1, 12, 3), "zero": ints(0), "one": ints(1), "three": ints(3), "axis": ints(1)})
case("RNN_relu", [node("Transpose", "x", "t", perm=[1, 0, 2]), node("RNN", "t w r", "s", hidden_size=3, activations=["Relu"]),
                  node("Squeeze", "s axis", "q"), node("Transpose", "q", perm=[1, 0, 2])], STEPS,
     {"w": draw(1, 3, 6), "r": draw(1, 3, 3), "axis": ints(1)})

# What cannot be mapped: all of it is named
case("refused", [node("Sin", "x", "a"), node("Relu", "a", "b"), node("NonZero", "b", "c"), node("Hardmax", "x", "d"),
                 node("Concat", "b d", axis=1)], ROWS, refused="2 nodes of opset 17|a (Sin)|d (Hardmax)")
case("refused_opset", node("Relu", "x"), ROWS, opset=6, refused="opset 6; 7 to 22")
case("refused_batch", node("ReduceMean", "x", axes=[0]), ROWS, refused="(ReduceMean): over the batch")
case("GRU_reset_before", [node("Transpose", "x", "t", perm=[1, 0, 2]), node("GRU", "t w r", "s", hidden_size=3),
                          node("Squeeze", "s axis", "q"), node("Transpose", "q", perm=[1, 0, 2])], STEPS,
     {"w": draw(1, 9, 6), "r": draw(1, 9, 3), "axis": ints(1)})
case("refused_open", node("Relu", "x"), {"x": ["N", 3, "h", "w"]}, refused="--sample")

save("onnx", ("conv_groups_bias_node", "typed_weights", "reshape_length", "heads_by_batch", "LSTM2", "GRU1", "class_token",
              "constants", "resize_linear", "slice", "refused"))

# onnx_masks.safetensors: attention's masks as torch.onnx writes them, from indices of samples and steps
SIZES = [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "n"), node("Gather", "sizes one", "l"),
         node("Range", "zero n one", "i"), node("Range", "zero l one", "j"), node("Unsqueeze", "i 123", "sample"),
         node("Unsqueeze", "j 012", "key"), node("Unsqueeze", "j 013", "query")]
ATTEND = [node("Cast", "seen", "seen_", to=9), node("Where", "seen_ none low", "add"), node("Unsqueeze", "x 1_", "q"),
          node("Transpose", "q", "k", perm=[0, 1, 3, 2]), node("MatMul", "q k", "scores"), node("Add", "scores add", "added"),
          node("Softmax", "added", "p", axis=-1), node("MatMul", "p q", "o"), node("Squeeze", "o 1_")]
NUMBERS = {"zero": np.int64(0), "one": np.int64(1), "zero_": ints(0),
           "1_": ints(1), "2_": ints(2), "-1_": ints(-1), "123": ints(1, 2, 3),
           "012": ints(0, 1, 2), "013": ints(0, 1, 3), "none": np.float32(0), "low": np.float32(-3.4e38)}
SOME, BOOLS = node("Relu", "mask", "some"), node("Cast", "some", "bools", to=9)
MASKED = {"x": ["N", "L", 6], "mask": ["N", "L"]}
FLAT = [SOME, BOOLS, node("Flatten", "bools", "flat", axis=2), node("Mul", "sample l", "row"),
        node("Add", "key row", "place"), node("Gather", "flat place", "found"), node("Reshape", "found -1_", "list"),
        node("Shape", "place", "wide"), node("Reshape", "list wide", "padding")]
PAIRS = [SOME, BOOLS, node("Max", "sample key", "larger"), node("Shape", "larger", "wide"),
         node("Expand", "sample wide", "samples"), node("Expand", "key wide", "keys"), node("Unsqueeze", "samples -1_", "a"),
         node("Unsqueeze", "keys -1_", "b"), node("Concat", "a b", "pairs", axis=-1), node("GatherND", "bools pairs", "padding")]
case("causal", SIZES + [node("LessOrEqual", "key query", "seen")] + ATTEND, {"x": ["N", "L", 6]}, NUMBERS)
case("window", SIZES + [node("Sub", "query key", "back"), node("Less", "back 2_", "near"), node("Greater", "back -1_", "past"),
                        node("And", "near past", "seen")] + ATTEND, {"x": ["N", "L", 6]}, NUMBERS)
case("first_keys", SIZES + [node("Less", "key two", "seen")] + ATTEND, {"x": ["N", "L", 6]}, {**NUMBERS, "two": np.int64(2)})
case("in_order", [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "n"), node("Range", "zero n one", "i"),
                  node("Mul", "i six", "rows"), node("Unsqueeze", "rows 1_", "row"), node("Add", "row columns", "at"),
                  node("Tanh", "x", "t"), node("Reshape", "t -1_", "flat"), node("Gather", "flat at")], ROWS,
     {**NUMBERS, "six": np.int64(6), "columns": np.arange(6).reshape(1, 6)})
case("as_wide", SIZES + FLAT + [node("GreaterOrEqual", "query zero", "always"), node("And", "always padding", "seen"),
                                node("Cast", "seen", "ones", to=1), node("ReduceSum", "ones 2_", keepdims=0)], MASKED, NUMBERS)
case("mask_flat", SIZES + FLAT + [node("GreaterOrEqual", "query zero", "always"), node("And", "always padding", "seen")]
     + ATTEND, MASKED, NUMBERS)
case("mask_pairs_causal", SIZES + PAIRS + [node("LessOrEqual", "key query", "earlier"), node("And", "earlier padding", "seen")]
     + ATTEND, MASKED, NUMBERS)
case("mask_expanded", SIZES + FLAT + [node("Unsqueeze", "n zero_", "n_"), node("Unsqueeze", "l zero_", "l_"),
                                      node("Concat", "n_ 1_ l_ l_", "four", axis=0), node("Expand", "padding four", "seen"),
                                      node("Not", "seen", "hidden"), node("Cast", "hidden", "h", to=1),
                                      node("ReduceSum", "h 1_", keepdims=0)], MASKED, NUMBERS)
case("distances", SIZES + [node("Sub", "query key", "back"), node("Cast", "back", "far", to=1), node("Mul", "far slope", "bias"),
                           node("Unsqueeze", "x 1_", "q"), node("Transpose", "q", "k", perm=[0, 1, 3, 2]),
                           node("MatMul", "q k", "scores"), node("Add", "scores bias", "y")], {"x": ["N", "L", 6]},
     {**NUMBERS, "slope": np.float32(-0.25)})
# What silero-vad and magika have: a step of an LSTM with its states [2, N, H], a softmax of single operators
CELL = {"r": draw(1, 12, 3), "w": draw(1, 12, 6), "b": draw(1, 24), "zero": np.int64(0), "one": np.int64(1), "0_": ints(0)}
for name, given in (("cell", "t w r b"), ("cell_no_bias", "t w r ")):
    inputs = given.split(" ") + ["", "h0", "c0"]
    case(name, [node("Gather", "state zero", "h"), node("Gather", "state one", "c"), node("Unsqueeze", "h 0_", "h0"),
                node("Unsqueeze", "c 0_", "c0"), node("Unsqueeze", "x 0_", "t"),
                helper.make_node("LSTM", inputs, ["", "h1", "c1"], hidden_size=3), node("Squeeze", "c1 0_"),
                node("Squeeze", "h1 0_", "z")], {"x": ["N", 6], "state": [2, "N", 3]}, CELL, outputs="y z")
    tensors[f"{name}/in1"] = np.ascontiguousarray(tensors[f"{name}/in1"].transpose(1, 0, 2))  # the batch is first here
case("cell_from_zero", [node("Unsqueeze", "x 0_", "t"), helper.make_node("LSTM", ["t", "w", "r", "b"], ["", "", "c1"],
                                                                         hidden_size=3), node("Squeeze", "c1 0_")], ROWS, CELL)
case("ignored_input", [node("Mul", "k zero", "n"), node("Cast", "n", "f", to=1), node("Tanh", "x", "h"), node("Add", "h f")],
     {"x": ["N", 6], "k": [int]}, CELL)
for name, shifted in (("softmax_of_parts", "d"), ("softmax_of_exp", "h")):
    case(name, [node("Tanh", "x", "h"), node("ReduceMax", "h", "m", axes=[1]), node("Max", "low m", "limit"),
                node("Sub", "h limit", "d"), node("Exp", shifted, "e"), node("ReduceSum", "e last", "s", keepdims=0),
                node("Unsqueeze", "s last", "u"), node("Expand", "u wide", "all"), node("Div", "e all", "p"),
                node("Mul", "p k")], ROWS, {"low": np.float32(-np.inf), "last": ints(1), "wide": ints(1, 6), "k": draw(6)})
save("onnx_masks", ("mask_flat", "mask_pairs_causal", "distances"))

# onnx_operators.safetensors: operators that other exporters than torch's write, quantised weights, and branches
rng.seed(19)


def packed(numbers, bits):
    """Rows of numbers of a few bits, the lowest of a byte first."""
    per = 8 // bits
    rows = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % per)]).astype(np.uint8)
    rows = rows.reshape(*rows.shape[:-1], -1, per)
    return sum(rows[..., i] << np.uint8(bits * i) for i in range(per)).astype(np.uint8)


def branch(nodes, outputs, weights=None):
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs.split()]
    return helper.make_graph(nodes, "branch", [], infos, [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()])


def either(condition, then, otherwise, output="y"):
    return helper.make_node("If", [condition], output.split(), then_branch=then, else_branch=otherwise)


for name, equation, shapes in (("matmul", "bij,bjk->bik", ([4, 3], [3, 5])), ("turned", "bij,bkj->bki", ([4, 3], [5, 3])),
                               ("heads", "bqhd,bkhd->bhqk", ([3, 2, 4], [5, 2, 4])),
                               ("values", "bhqk,bkhd->bqhd", ([2, 3, 5], [5, 2, 4])),
                               ("outer", "bi,bj->bji", ([3], [4])), ("elements", "bij,bji->bij", ([3, 4], [4, 3])),
                               ("inner", "bi,bi->b", ([3], [3])), ("sums", "bijk,blk->bl", ([3, 2, 4], [5, 4])),
                               ("implied", "...ij,...jk", ([2, 4, 3], [2, 3, 5]))):
    case(f"einsum_{name}", [node("Tanh", "p", "q"), node("Einsum", "x q", "z", equation=equation), node("Mul", "z two")],
         {"x": ["N", *shapes[0]], "p": ["N", *shapes[1]]}, {"two": np.float32(2)})
for name, equation, shape, weight in (("in_out", "bij,jk->bik", [3, 4], (4, 5)), ("out_in", "bij,kj->bik", [3, 4], (5, 4)),
                                      ("heads", "bli,ihd->bhld", [3, 4], (4, 2, 3)), ("merge", "bhld,hdo->blo", [2, 3, 4], (2, 4, 5)),
                                      ("mixed", "bhld,dho->bol", [2, 3, 4], (4, 2, 5)), ("first", "oi,bil->bol", [4, 3], (5, 4)),
                                      ("vector", "bij,j->bi", [3, 4], (4,)), ("wide", "bi,o->boi", [3], (4,)),
                                      ("ellipsis", "...i, i o -> ... o", [2, 3, 4], (4, 5)), ("summed", "bhi,io->bo", [3, 4], (4, 5))):
    inputs = "w x" if name == "first" else "x w"
    case(f"einsum_weight_{name}", [node("Tanh", "x", "h"), node("Einsum", inputs.replace("x", "h"), equation=equation)],
         {"x": ["N", *shape]}, {"w": draw(*weight)})
case("einsum_sum", node("Einsum", "x", equation="bijk->bk"), PICTURE)
case("einsum_transpose", node("Einsum", "x", equation="bijk->bkij"), PICTURE)
case("einsum_length", node("Einsum", "x w", equation="bld,de->ble"), STEPS, {"w": draw(6, 4)})

case("topk", [node("TopK", "x k", "y i", axis=1), node("Cast", "i", "z", to=1)], PICTURE, {"k": ints(2)}, outputs="y z")
case("topk_smallest", [node("TopK", "x k", "y i", axis=-1, largest=0), node("Cast", "i", "z", to=1)], PICTURE, {"k": ints(3)},
     outputs="y z")
case("argmax", [node("ArgMax", "x", "i", axis=1, keepdims=0), node("Cast", "i", "y", to=1)], PICTURE)
case("argmin", [node("ArgMin", "x", "i", axis=-1), node("Cast", "i", to=1)], PICTURE)
case("gather_by_argmax", [node("ArgMax", "x", "i", axis=2), node("GatherElements", "x i", axis=2)], PICTURE)
case("cumsum_of_constant", [node("CumSum", "w a", "c", exclusive=1, reverse=1), node("Mul", "x c")], PICTURE,
     {"w": draw(2, 3, 4)[:1], "a": np.int64(1)})
case("reductions", [node("ReduceL1", "x a", "b"), node("ReduceSumSquare", "x a", "c", keepdims=1), node("Add", "b c", "d"),
                    node("ReduceLogSum", "d a", "y", keepdims=0)], PICTURE, {"a": ints(3)}, opset=18)
case("weight_norm", [node("ReduceL2", "w a", "n"), node("Div", "w n", "u"), node("Mul", "u g", "v"), node("Gemm", "x v", transB=1)],
     ROWS, {"w": draw(4, 6), "g": draw(4, 1), "a": ints(1)}, opset=18)
case("mean_of_three", [node("Tanh", "x", "a"), node("Mean", "k a x", "b"), node("Max", "b x k", "c"), node("Sum", "c k x")], ROWS,
     {"k": draw(6)})
case("tile_split_of_constants", [node("Split", "w", "a b", axis=0), node("Tile", "b r", "c"), node("Add", "x c", "d"), node("Mul", "d a")],
     ROWS, {"w": draw(2, 6), "r": ints(1, 1)}, opset=11)
case("space_to_depth", node("SpaceToDepth", "x", blocksize=2), {"x": ["N", 3, 4, 6]})
case("layer_norm_pictures", node("LayerNormalization", "x s b", axis=1), PICTURE, {"s": draw(4, 3, 4), "b": draw(4, 3, 4)})
case("gemm_factors", node("Gemm", "x w b", transB=1, alpha=0.5, beta=2.0), ROWS, {"w": draw(4, 6), "b": draw(4)})
case("gemm_number", node("Gemm", "x w b"), ROWS, {"w": draw(6, 4), "b": np.float32(0.5)})
case("conv_transpose1d", node("ConvTranspose", "x w b", strides=[3], pads=[1, 0], output_padding=[2]), {"x": ["N", 4, 5]},
     {"w": draw(4, 3, 4), "b": draw(3)})
case("conv_transpose_shape", node("ConvTranspose", "x w", strides=[3, 2], output_shape=[10, 8]), {"x": ["N", 4, 3, 3]},
     {"w": draw(4, 2, 3, 3)})
case("resize_steps", helper.make_node("Resize", ["x", "", "f"], ["y"], mode="linear"), {"x": ["N", 4, 5]},
     {"f": np.array([1, 1, 2], np.float32)})
case("resize_axes", helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest", axes=[2, 3]), PICTURE,
     {"s": ints(5, 7)}, opset=18)
case("instance_norm_steps", node("InstanceNormalization", "x s b"), {"x": ["N", 4, 7]}, {"s": draw(4), "b": draw(4)})
case("prelu_broadcast", [node("Tanh", "x", "h"), node("PRelu", "h s")], PICTURE, {"s": draw(4, 3, 1)})
case("reversed_pads", [node("Slice", "p a b c s", "q"), node("Pad", "x q")], ROWS,
     {"p": ints(2, 0, 1, 0), "a": ints(-1), "b": ints(-2**63 + 1), "c": ints(0), "s": ints(-1)})

quiet.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # which rounds x to 8 bits too
quantised = rng.randint(-100, 100, (4, 6)).astype(np.int8)
case("dequantised", [node("DequantizeLinear", "w s z", "f", axis=0), node("Gemm", "x f", transB=1)], ROWS,
     {"w": quantised, "s": np.abs(draw(4)) / 50, "z": np.array([3, -5, 0, 9], np.int8)})
case("dequantised_one", [node("DequantizeLinear", "w s", "f"), node("MatMul", "x f")], ROWS,
     {"w": rng.randint(0, 200, (6, 4)).astype(np.uint8), "s": np.float32(0.01)})
case("dequantised_blocks", [node("DequantizeLinear", "w s z", "f", axis=1, block_size=4), node("Gemm", "x f", transB=1)], ROWS,
     {"w": quantised, "s": np.abs(draw(4, 2)) / 50, "z": rng.randint(-9, 9, (4, 2)).astype(np.int8)}, opset=21)
for bits, with_zero, features in ((4, True, 40), (4, False, 40), (8, True, 40), (8, False, 32)):
    blocks, biased = -(-features // 16), not with_zero
    weights = {"w": packed(rng.randint(0, 2**bits, (5, blocks, 16)), bits), "s": np.abs(draw(5 * blocks)) / 2**bits,
               "b": draw(5)}
    inputs = ["h", "w", "s", "z" if with_zero else "", "", "b" if biased else ""]
    if with_zero:
        weights["z"] = packed(rng.randint(0, 2**bits, (5, blocks)), bits).reshape(-1)
    case(f"matmul_{bits}_bits{'_zero' * with_zero}", [node("Tanh", "x", "h"), helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=features, N=5, bits=bits, block_size=16)],
         {"x": ["N", 3, features]}, weights)
quiet.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL

case("if_true", either("c", branch([node("Relu", "x", "a"), node("Mul", "a k", "t")], "t", {"k": draw(6)}),
                       branch([node("Sin", "x", "e")], "e")), ROWS, {"c": np.bool_(True)})
case("if_rank", [node("Tanh", "x", "h"), node("Shape", "h", "s"), node("Size", "s", "r"), node("Equal", "r four", "c"),
                 either("c", branch([node("Mul", "h w", "t")], "t"), branch([node("Relu", "h", "t")], "t"), "v"),
                 node("Add", "v h")], PICTURE, {"four": np.int64(4), "w": draw(4, 1, 1)})
case("if_nested", [node("Tanh", "x", "h"),
                   either("c", branch([either("d", branch([node("Sub", "x h", "i")], "i"), branch([node("Neg", "h", "j")], "j"), "t")], "t"),
                          branch([node("Sin", "h", "e")], "e"))], ROWS, {"c": np.bool_(True), "d": np.bool_(False)})
case("refused_if", [node("ReduceSum", "x a", "s", keepdims=0), node("Greater", "s zero", "c"), node("Relu", "x", "h"),
                    either("c", branch([node("Neg", "h", "t")], "t"), branch([node("Exp", "h", "e")], "e"))], ROWS,
     {"a": ints(1), "zero": np.float32(0)}, refused="(If): is supported if its condition follows from constants and shapes|The 3 nodes"
     " before the first of them, up to c, could run")
case("refused_inside_if", either("c", branch([node("Sin", "x", "t")], "t"), branch([node("Exp", "x", "e")], "e")), ROWS,
     {"c": np.bool_(True)}, refused="1 nodes of|t (Sin): is no operator")
case("refused_many", [node("Gemm", "x w", "h"), node("Relu", "h", "g")] + [node("Sin", "g", f"output_of_a_sine_{i}") for i in range(40)]
     + [node("Sum", " ".join(f"output_of_a_sine_{i}" for i in range(40)))], ROWS, {"w": draw(6, 4)},
     refused="40 nodes of opset 17|output_of_a_sine_0 (Sin)|; and |more. The 2 nodes before the first of them, up to g, could run as a"
             " frozen prefix")
case("refused_quantised", [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s")], ROWS, {"s": np.float32(0.1)},
     refused="(QuantizeLinear)")
case("refused_type", [node("MatMul", "x w")], ROWS, {"w": draw(6, 4).astype(np.complex64)},
     refused="(MatMul): w has numbers of a type that is not supported")
case("refused_diagonal", node("Einsum", "x", equation="bii->bi"), {"x": ["N", 3, 3]}, refused="a letter that is twice in one term")
case("refused_batch_product", node("Einsum", "x", equation="bi->i"), ROWS, refused="(Einsum): over the batch")
case("matmul_left", [node("Tanh", "x", "h"), node("MatMul", "w h")], PICTURE, {"w": draw(5, 3)})
case("matmul_left_steps", [node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "w t")], STEPS, {"w": draw(1, 4, 6)})
case("argmax_head", [node("Gemm", "x w", "h", transB=1), node("ArgMax", "h", "i", axis=-1, keepdims=0), node("Cast", "i", to=1)],
     ROWS, {"w": draw(5, 6)})
for name, pad in (("cut", "NOTSET"), ("cut_same", "SAME_UPPER")):
    case(f"conv_transpose_{name}", node("ConvTranspose", "x w", strides=[2, 2], output_shape=[6, 4], auto_pad=pad),
         {"x": ["N", 4, 3, 3]}, {"w": draw(4, 2, 3, 3)})
case("expand_two_axes", [node("Tanh", "x", "h"), node("Expand", "h s", "e"), node("Mul", "e k")], {"x": ["N", 1, 4, 1]},
     {"s": ints(1, 3, 4, 2), "k": draw(3, 4, 2)})
case("expand_two_and_steps", [node("Tanh", "x", "h"), node("Unsqueeze", "y_ axes", "u"), node("Shape", "x", "sizes"), node("Gather", "sizes one", "l"),
                              node("Concat", "1_ three l four", "s", axis=0), node("Expand", "u s", "e"), node("Unsqueeze", "h 1_", "b"),
                              node("Mul", "e b")], {"x": ["N", "L", 4], "y_": ["N", 1]},
     {"axes": ints(2, 3), "one": ints(1), "1_": ints(1), "three": ints(3), "four": ints(4)})
TWICE = "damaged: a second value of the same name"
case("refused_twice_weight", [node("ReduceSum", "w", "w", keepdims=0), node("Add", "x w")], ROWS, {"w": draw(9, 6)}, opset=13,
     refused=TWICE)
case("refused_twice_input", [node("Relu", "x", "x"), node("Neg", "x")], ROWS, refused=TWICE)
case("refused_twice_later", [node("GatherND", "x i"), helper.make_node("Concat", ["", "c"], ["i"], axis=-1)], STEPS,
     {"i": np.zeros((2, 5, 2), np.int64), "c": ints(1)}, refused=TWICE)
case("refused_twice_inside_if", either("c", branch([node("ReduceSum", "w", "w", keepdims=0), node("Add", "x w", "t")], "t"),
                                       branch([node("Neg", "x", "e")], "e")), ROWS, {"c": np.bool_(True), "w": draw(9, 6)},
     opset=13, refused=TWICE)
for d in (1, 2):
    case(f"GRU{d}_reset_before", [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Reshape", "h split", "o"),
                                  node("Transpose", "o", "i", perm=[1, 0, 2]),
                                  helper.make_node("GRU", ["t", "w", "r", "b", "", "i"], ["s", "f"], hidden_size=3,
                                                   linear_before_reset=0, direction="bidirectional" if d == 2 else "forward"),
                                  node("Transpose", "s", "u", perm=[2, 0, 1, 3]), node("Reshape", "u all", "y"),
                                  node("Transpose", "f", "g", perm=[1, 0, 2]), node("Flatten", "g", "z")],
         {"x": ["N", "L", 6], "h": ["N", 3 * d]},
         {"w": draw(d, 9, 6), "r": draw(d, 9, 3), "b": draw(d, 18), "all": ints(0, 0, 3 * d), "split": ints(0, d, 3)}, outputs="y z")
for raw, axis, block, scales in ((True, 0, 0, (5,)), (False, 1, 0, (7,)), (True, 1, 3, (5, 3))):
    for kind, low in ((ml_dtypes.int4, -8), (ml_dtypes.uint4, 0)):
        case(f"dequantised_{kind.__name__}_{axis}_{block}", [node("DequantizeLinear", "w s z", "f", axis=axis, block_size=block),
                                                             node("Gemm", "x f", transB=1)], {"x": ["N", 7]},
             {"w": rng.randint(low, low + 16, (5, 7)).astype(kind), "s": np.abs(draw(*scales)),
              "z": rng.randint(low, low + 16, scales).astype(kind)}, opset=21, raw=raw)
save("onnx_operators", ("einsum_weight_mixed", "einsum_heads", "matmul_4_bits_zero", "dequantised_blocks", "if_nested", "topk"))
