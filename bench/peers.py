"""The same work as bench.c in other libraries, one line of JSON.

    peers.py PEER WORK SECONDS THREADS     PEER: torch, compile (torch.compile), onnxruntime,
                                           openvino, numpy (its OpenBLAS), onednn and openblas
                                           (Debian's). SECONDS "slices": read from stdin, line by
                                           line, and a line of JSON each time
    peers.py export WORK DIRECTORY         weights, input and logits, which bench.c compares with
    peers.py operators WORK SECONDS THREADS   PyTorch's layers: milliseconds forward and backward
"""
import ctypes
import ctypes.util
import json
import os
import resource
import sys
import time
import types

STARTED = time.time()
SENTENCES = [5, 7, 9, 10, 11, 12, 14, 15, 16, 17, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
             29, 30, 31, 32, 34, 35, 37, 40, 43, 50]  # lengths of texts, as in bench.c
PEER, WORK = sys.argv[1], sys.argv[2]
THREADS = int(sys.argv[4]) if PEER != "export" else 2
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)


def build(work):
    """The network, named as finetune.h names it, and a batch."""
    import torch
    from torch import nn
    import torch.nn.functional as F

    class KerasCnn(nn.Module):
        def __init__(self):
            super().__init__()
            width = 3
            for i, out in enumerate((32, 64, 128, 256, 512), 1):
                setattr(self, f"conv{i}", nn.Conv2d(width, out, 3, padding=1))
                width = out
            self.fc1, self.drop, self.fc2 = nn.Linear(512, 1024), nn.Dropout(0.5), nn.Linear(1024, 10)

        def forward(self, x):
            for i in range(1, 6):
                x = F.max_pool2d(F.relu(getattr(self, f"conv{i}")(x)), 2)
            return self.fc2(self.drop(F.relu(self.fc1(x.flatten(1)))))

    class Block(nn.Module):
        def __init__(self, width, out, stride):
            super().__init__()
            self.stride = stride
            self.dw_conv = nn.Conv2d(width, width, 3, stride, 0 if stride > 1 else 1,
                                     groups=width, bias=False)
            self.dw_bn = nn.BatchNorm2d(width, 1e-3)
            self.pw_conv = nn.Conv2d(width, out, 1, bias=False)
            self.pw_bn = nn.BatchNorm2d(out, 1e-3)

        def forward(self, x):
            x = F.pad(x, (0, 1, 0, 1)) if self.stride > 1 else x  # TensorFlow's SAME
            return F.relu6(self.pw_bn(self.pw_conv(F.relu6(self.dw_bn(self.dw_conv(x))))))

    class First(nn.Module):
        def __init__(self, out):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, out, 3, 2, bias=False), nn.BatchNorm2d(out, 1e-3)

        def forward(self, x):
            return F.relu6(self.bn(self.conv(F.pad(x, (0, 1, 0, 1)))))

    class MobileNet(nn.Module):
        def __init__(self):
            super().__init__()
            width, layers = 8, [First(8)]
            for out, stride in zip((16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256),
                                   (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)):
                layers.append(Block(width, out, stride))
                width = out
            self.features, self.classifier = nn.Sequential(*layers), nn.Linear(256, 1000)

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(784, 128), nn.Linear(128, 10)

        def forward(self, x):
            return self.fc2(F.relu(self.fc1(x)))

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.fc = nn.Embedding(10000, 128), nn.Linear(256, 2)
            self.lstm = nn.LSTM(128, 256, 2, batch_first=True)

        def forward(self, ids):
            return self.fc(self.lstm(self.embedding(ids))[0][:, -1])

    class CharRnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.out = nn.Embedding(65, 128), nn.Linear(128, 65)
            self.lstm = nn.LSTM(128, 128, 2, batch_first=True)

        def forward(self, ids, state=None):
            x, self.state = self.lstm(self.embedding(ids), state)
            return self.out(x)

    tokens = lambda n, length: (torch.arange(n * length) * 7919 + 13).remainder(65) \
        .reshape(n, length)
    torch.manual_seed(1)
    if work == "lstm_classifier":
        return Lstm(), tokens(32, 100)
    if work == "char_rnn_generate":
        return CharRnn(), tokens(1, 1)
    if work.startswith(("bert", "minilm", "vit", "dinov2")):
        return transformer(work, tokens)
    batch = 1 if work.endswith("_1") else 32 if work in ("keras_cnn", "mlp") else 16
    if work.startswith("resnet18"):
        from torchvision.models import resnet18
        return resnet18(), torch.randn(batch, 3, 224, 224)
    if work.startswith("mobilenet"):
        return MobileNet(), torch.randn(batch, 3, 224, 224)
    if work == "keras_cnn":
        return KerasCnn(), torch.randn(batch, 3, 32, 32)
    return Mlp(), torch.randn(batch, 784)


def transformer(work, tokens):
    """Hugging Face's, with its scaled_dot_product_attention; PEFT's LoRA as ours."""
    import torch
    import transformers as hf

    class Logits(torch.nn.Module):
        def __init__(self, net, mask=None):
            super().__init__()
            self.net, self.mask = net, mask

        def forward(self, x):
            return (self.net(x) if self.mask is None else
                    self.net(x, attention_mask=self.mask)).logits

    mask, one = None, work.endswith("_1")
    if work.startswith("vit_tiny"):
        net = hf.ViTForImageClassification(hf.ViTConfig(
            hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768,
            num_labels=1000))
        x = torch.randn(8, 3, 224, 224)
    elif work.startswith("dinov2_small"):
        net = hf.Dinov2ForImageClassification(hf.Dinov2Config(
            hidden_size=384, num_attention_heads=6, image_size=224, num_labels=1000))
        x = torch.randn(8, 3, 224, 224)
    else:
        layers, hidden, width = ((2, 128, 64) if work == "bert_tiny" else
                                 (3, 384, 32) if work.startswith("minilm") else (4, 256, 64))
        net = hf.BertForSequenceClassification(hf.BertConfig(
            hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // width,
            intermediate_size=4 * hidden, num_labels=2))
        length = 128 if not work.startswith("minilm") else 23 if one else SENTENCES[-1]
        x = tokens(1 if one else 32, length)
        if work.startswith("minilm") and not one:
            mask = (torch.arange(length) < torch.tensor(SENTENCES)[:, None]).long()
    if work.endswith("_lora") and PEER != "export":
        import peft
        net = peft.get_peft_model(net, peft.LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", modules_to_save=["classifier"]))
    return Logits(net, mask), x


def export(work, directory):
    import torch
    from safetensors.torch import save_file
    net, x = build(work)
    if work.startswith(("resnet", "mobilenet")):
        net.train()
        for _ in range(2):  # statistics that fit, so that logits are of order 1
            net(torch.randn(4, *x.shape[1:]))
    net.eval()
    with torch.no_grad():
        logits = net(x)
    state = net.net.state_dict() if hasattr(net, "net") else net.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()},
              f"{directory}/model.safetensors")
    x = x if x.is_floating_point() else x.int()
    x.numpy().tofile(f"{directory}/input.bin")
    logits.numpy().tofile(f"{directory}/logits.bin")


def torch_step(work, with_network=False):
    import torch
    torch.set_num_threads(THREADS)
    net, x = build(work)
    if PEER == "compile":
        net = torch.compile(net)
    y = torch.arange(x.shape[0]) % (10 if x.is_floating_point() else 2)
    if x.dim() == 4:  # its faster memory format
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if work == "char_rnn_generate":
        state = None

        def generate():
            nonlocal x, state
            with torch.inference_mode():
                x = net(x, state)[0, -1].argmax().reshape(1, 1)
                state = net.state
                return x.item()
        return generate, 1
    if "inference" in work:
        net.eval()
        with torch.no_grad():
            if not hasattr(net, "net"):
                net = torch.jit.optimize_for_inference(torch.jit.trace(net, x))

        def predict():
            with torch.no_grad():
                net(x)
        return predict, x.shape[0]
    if work == "resnet18_layer4":
        for name, p in net.named_parameters():
            p.requires_grad = name.startswith(("layer4", "fc"))
    adam = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-4)

    def train():
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=work.endswith("_bf16")):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        adam.step()
    return (train, x.shape[0], net) if with_network else (train, x.shape[0])


def block_forward(block, x):
    """torchvision's BasicBlock without its additions and relus in place, which do not go with hooks
    that see gradients."""
    y = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(y + (block.downsample(x) if block.downsample else x))


def operators(work):
    """What each layer takes in a training step. A first layer's backward cannot be told: hooks see
    only layers whose input has a gradient."""
    step, _, net = torch_step(work, with_network=True)
    for layer in net.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
        if type(layer).__name__ == "BasicBlock":
            layer.forward = types.MethodType(block_forward, layer)
    took, since = {}, {}

    def begin(name):
        since[name] = time.perf_counter()

    def end(name, backward):
        took[name][backward] += time.perf_counter() - since[name]

    for name, layer in net.named_modules():
        if any(layer.children()) or not name:
            continue
        took[name] = [0.0, 0.0]
        layer.register_forward_pre_hook(lambda *_, n=name: begin(n))
        layer.register_forward_hook(lambda *_, n=name: end(n, 0))
        layer.register_full_backward_pre_hook(lambda *_, n=name: begin(n))
        layer.register_full_backward_hook(
            lambda _, inputs, __, n=name: end(n, 1) if inputs[0] is not None else None)
    step()
    for times in took.values():
        times[:] = [0.0, 0.0]
    count, start = 0, time.time()
    while time.time() - start < float(sys.argv[3]):
        step()
        count += 1
    print(json.dumps({name: [1e3 * t / count for t in times] for name, times in took.items()}))


def onnx_file(work):
    import torch
    net, x = build(work)
    path = f"/tmp/finetune_bench_{work}.onnx"
    if not os.path.exists(path):
        torch.onnx.export(net.eval(), (x,), path, dynamo=False, input_names=["x"])
    return path, x.numpy()


def onnxruntime_step(work):
    import onnxruntime
    path, x = onnx_file(work)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x}), x.shape[0]


def openvino_step(work):
    import openvino
    path, x = onnx_file(work)
    core = openvino.Core()
    hint = "LATENCY" if x.shape[0] == 1 else "THROUGHPUT"
    model = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": THREADS,
                                             "PERFORMANCE_HINT": hint, "NUM_STREAMS": 1,
                                             "INFERENCE_PRECISION_HINT": "f32"})
    return lambda: model([x]), x.shape[0]


def gemm_step(work, peer):
    m, n, k = (int(v) for v in work.split("_")[1:])
    if peer == "torch":
        import torch
        torch.set_num_threads(THREADS)
        a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        return lambda: torch.matmul(a, b, out=out), 2e-9 * m * n * k
    import numpy
    a, b = numpy.random.rand(m, k).astype("f"), numpy.random.rand(k, n).astype("f")
    out = numpy.empty((m, n), "f")
    step = (lambda: numpy.matmul(a, b, out=out)) if peer == "numpy" else library_gemm(peer, a, b, out)
    step()
    assert abs(out - a @ b).max() < 1e-5 * k
    return step, 2e-9 * m * n * k


def library_gemm(peer, a, b, out):
    """out = a b, of numpy's arrays, by a library in C."""
    library = ctypes.CDLL(ctypes.util.find_library({"onednn": "dnnl"}.get(peer, peer)))
    (m, k), n = a.shape, b.shape[1]
    at = [v.ctypes.data_as(ctypes.c_void_p) for v in (a, b, out)]  # which keep the arrays
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    if peer == "onednn":
        m, n, k = [ctypes.c_int64(v) for v in (m, n, k)]
        plain = ctypes.c_char(b"N")
        return lambda: library.dnnl_sgemm(plain, plain, m, n, k, one, at[0], k, at[1], n, zero,
                                          at[2], n)
    return lambda: library.cblas_sgemm(101, 111, 111, m, n, k, one, at[0], k, at[1], n, zero,
                                       at[2], n)


def main():
    if PEER == "export":
        export(WORK, sys.argv[3])
        return
    if PEER == "operators":
        operators(WORK)
        return
    if WORK.startswith("gemm_"):
        step, each = gemm_step(WORK, PEER)
    else:
        step, each = {"torch": torch_step, "compile": torch_step, "onnxruntime": onnxruntime_step,
                      "openvino": openvino_step}[PEER](WORK)
    step()
    first = time.time() - STARTED
    step()
    for seconds in sys.stdin if sys.argv[3] == "slices" else [sys.argv[3]]:
        count, start = 0, time.time()
        while time.time() - start < float(seconds):
            step()
            count += 1
        took = time.time() - start
        print(json.dumps({"work": WORK, "per_second": round(count * each / took, 2),
                          "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                          "first_step": round(first, 3)}), flush=True)


main()
