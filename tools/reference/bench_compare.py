"""Measures one workload of tools/bench/compare in one peer and prints JSON.

python bench_compare.py --workload srvgg --peer torch|torch-last|onnxruntime|openvino [--seconds 4]

The weights of the networks in use follow the formula of vermeer/examples/compare/nets.rs, so the
numbers of their results can be compared. `torch-last` is PyTorch with channels last in memory.
"""

import argparse
import ctypes
import json
import math
import resource
import statistics
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import twin_dcgan
import twin_diffusion
import twin_vae

INFERENCE = ("srvgg", "rrdb", "johnson", "inception")
DDPM = {"framework": "ddpm", "schedule": "linear", "prediction": "eps", "clip": True}


def formula(t, count, scale):
    i = np.arange(count, dtype=np.uint64) + np.uint64(7919 * t)
    bits = (i * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    return torch.from_numpy(((bits.astype(np.float64) / 2**32 - 0.5) * scale).astype(np.float32))


class Weights:
    """Hands out weights in the order of the Rust side."""

    def __init__(self):
        self.t = 0

    def tensor(self, shape, scale):
        self.t += 1
        return formula(self.t - 1, math.prod(shape), scale).reshape(shape)

    def conv(self, c, k, kernel, stride=1, padding=None, mode="zeros"):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
        layer = nn.Conv2d(c, k, kernel, stride, padding, padding_mode=mode)
        with torch.no_grad():
            layer.weight.copy_(self.tensor((k, c, *kernel), math.sqrt(24 / (c * kernel[0] * kernel[1]))))
            layer.bias.copy_(self.tensor((k,), 0.1))
        return layer


class Srvgg(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.body = nn.ModuleList([w.conv(3, 64, 3)] + [w.conv(64, 64, 3) for _ in range(16)])
        self.out = w.conv(64, 48, 3)

    def forward(self, x):
        for conv in self.body:
            x = F.leaky_relu(conv(x), 0.1)
        return F.pixel_shuffle(self.out(x), 4)


class Rrdb(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.first = w.conv(3, 64, 3)
        dense = lambda: nn.ModuleList([w.conv(64 + 32 * i, 32 if i < 4 else 64, 3) for i in range(5)])
        self.blocks = nn.ModuleList([nn.ModuleList([dense(), dense(), dense()]) for _ in range(23)])
        self.body = w.conv(64, 64, 3)
        self.ups = nn.ModuleList([w.conv(64, 64, 3), w.conv(64, 64, 3)])
        self.high, self.last = w.conv(64, 64, 3), w.conv(64, 3, 3)

    def forward(self, x):
        first = x = self.first(x)
        for block in self.blocks:
            inner = x
            for dense in block:
                everything = inner
                for conv in dense[:4]:
                    everything = torch.cat([everything, F.leaky_relu(conv(everything), 0.2)], 1)
                inner = inner + 0.2 * dense[4](everything)
            x = x + 0.2 * inner
        x = first + self.body(x)
        for up in self.ups:
            x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(F.leaky_relu(self.high(x), 0.2))


class Normed(nn.Module):
    def __init__(self, w, c, k, kernel, stride):
        super().__init__()
        self.conv = w.conv(c, k, kernel, stride, mode="reflect")
        self.norm = nn.InstanceNorm2d(k, affine=True)
        with torch.no_grad():
            self.norm.weight.copy_(w.tensor((k,), 2.0))
            self.norm.bias.copy_(w.tensor((k,), 0.2))

    def forward(self, x):
        return self.norm(self.conv(x))


class Johnson(nn.Module):
    def __init__(self, w):
        super().__init__()
        sizes = [(3, 32, 9, 1), (32, 64, 3, 2), (64, 128, 3, 2)] + 10 * [(128, 128, 3, 1)]
        sizes += [(128, 64, 3, 1), (64, 32, 3, 1)]
        self.convs = nn.ModuleList([Normed(w, *size) for size in sizes])
        self.last = w.conv(32, 3, 9, mode="reflect")

    def forward(self, x):
        for layer in self.convs[:3]:
            x = F.relu(layer(x))
        for i in range(3, 13, 2):
            x = x + self.convs[i + 1](F.relu(self.convs[i](x)))
        for layer in self.convs[13:]:
            x = F.relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.last(x)


class Branch(nn.Module):
    def __init__(self, w, c, layers, pool=None, shrink=False, fork=()):
        super().__init__()
        self.pool, convs = pool, []
        for i, (k, kernel) in enumerate(layers):
            small = shrink and i == len(layers) - 1
            convs.append(w.conv(c, k, kernel, 2 if small else 1, 0 if small else None))
            c = k
        self.convs, self.fork = nn.ModuleList(convs), nn.ModuleList(fork)

    def forward(self, x):
        if self.pool == "mean":
            x = F.avg_pool2d(x, 3, 1, 1)
        elif self.pool == "largest":
            x = F.max_pool2d(x, 3, 2)
        for conv in self.convs:
            x = F.relu(conv(x))
        return [F.relu(conv(x)) for conv in self.fork] or [x]


class Inception(nn.Module):
    """torchvision's inception_v3 up to its pooled features, batch normalisation folded."""

    def __init__(self, w):
        super().__init__()
        self.stem = nn.ModuleList(
            [w.conv(3, 32, 3, 2, 0), w.conv(32, 32, 3, 1, 0), w.conv(32, 64, 3), w.conv(64, 80, 1), w.conv(80, 192, 3, 1, 0)]
        )
        wide, tall, blocks = (1, 7), (7, 1), []
        for c, pooled in [(192, 32), (256, 64), (288, 64)]:
            blocks.append(
                [
                    Branch(w, c, [(64, 1)]),
                    Branch(w, c, [(48, 1), (64, 5)]),
                    Branch(w, c, [(64, 1), (96, 3), (96, 3)]),
                    Branch(w, c, [(pooled, 1)], "mean"),
                ]
            )
        blocks.append(
            [
                Branch(w, 288, [(384, 3)], shrink=True),
                Branch(w, 288, [(64, 1), (96, 3), (96, 3)], shrink=True),
                Branch(w, 288, [], "largest"),
            ]
        )
        for c in (128, 160, 160, 192):
            blocks.append(
                [
                    Branch(w, 768, [(192, 1)]),
                    Branch(w, 768, [(c, 1), (c, wide), (192, tall)]),
                    Branch(w, 768, [(c, 1), (c, tall), (c, wide), (c, tall), (192, wide)]),
                    Branch(w, 768, [(192, 1)], "mean"),
                ]
            )
        blocks.append(
            [
                Branch(w, 768, [(192, 1), (320, 3)], shrink=True),
                Branch(w, 768, [(192, 1), (192, wide), (192, tall), (192, 3)], shrink=True),
                Branch(w, 768, [], "largest"),
            ]
        )
        for c in (1280, 2048):
            first, second = Branch(w, c, [(320, 1)]), Branch(w, c, [(384, 1)])
            third = Branch(w, c, [(448, 1), (384, 3)])
            for side in (second, third):
                side.fork.extend([w.conv(384, 384, (1, 3)), w.conv(384, 384, (3, 1))])
            blocks.append([first, second, third, Branch(w, c, [(192, 1)], "mean")])
        self.blocks = nn.ModuleList([nn.ModuleList(block) for block in blocks])

    def forward(self, x):
        for i, conv in enumerate(self.stem):
            x = F.relu(conv(x))
            if i in (2, 4):
                x = F.max_pool2d(x, 3, 2)
        for block in self.blocks:
            x = torch.cat([part for branch in block for part in branch(x)], 1)
        return x.mean((2, 3), keepdim=True)


NETS = {
    "srvgg": (Srvgg, (1, 3, 128, 128)),
    "rrdb": (Rrdb, (1, 3, 64, 64)),
    "johnson": (Johnson, (1, 3, 512, 512)),
    "inception": (Inception, (8, 3, 299, 299)),
}


def training(name, last):
    """A function that runs the workload once."""
    layout = torch.channels_last if last else torch.contiguous_format
    image = lambda *shape: torch.rand(shape).to(memory_format=layout)
    if name == "conv3":
        conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(memory_format=layout)
        x = image(32, 64, 32, 32).requires_grad_()

        def run():
            x.grad = conv.weight.grad = None
            conv(x).sum().backward()

        return run
    if name.startswith("dcgan"):
        sizes = {"size": 64, "channels": 3, "width": 64}
        g = twin_dcgan.Generator(**sizes, latent=100).to(memory_format=layout)
        if name != "dcgan_step":
            batch = int(name.removeprefix("dcgan_g"))
            g.eval()
            z = torch.randn(batch, 100, 1, 1)

            def run():
                with torch.no_grad():
                    g(z)

            return run
        d = twin_dcgan.Discriminator(**sizes).to(memory_format=layout)
        optimizers = [torch.optim.Adam(m.parameters(), lr=2e-4, betas=(0.5, 0.999)) for m in (g, d)]
        x = image(32, 3, 64, 64) * 2 - 1
        return lambda: twin_dcgan.step(
            g, d, *optimizers, x, torch.randn(32, 100, 1, 1), loss="non-saturating", smoothing=0.0
        )
    if name == "unet_step":
        net = twin_diffusion.UNet(channels=3, width=64, mult=[1, 2, 2], blocks=2, attention_levels=[1], groups=8)
        net = net.to(memory_format=layout)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
        x = image(32, 3, 32, 32) * 2 - 1

        def run():
            optimizer.zero_grad()
            t = torch.randint(0, 1000, (32,)).float()
            twin_diffusion.loss_terms(net, DDPM, x, torch.randn_like(x), t)["total"].backward()
            optimizer.step()

        return run
    net = twin_vae.Vae(
        network="mlp", likelihood="bernoulli", channels=1, image_height=28, image_width=28, latent=20, hidden=[400]
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    x = torch.rand(128, 1, 28, 28)

    def run():
        optimizer.zero_grad()
        net.terms(x, torch.randn(128, 20), 1.0)["total"].backward()
        optimizer.step()

    return run


def inference(name, peer, threads):
    kind, shape = NETS[name]
    net = kind(Weights()).eval()
    x = formula(1000, math.prod(shape), 2.0).reshape(shape)
    if peer.startswith("torch"):
        layout = torch.channels_last if peer == "torch-last" else torch.contiguous_format
        net, x = net.to(memory_format=layout), x.to(memory_format=layout)

        def run():
            with torch.no_grad():
                return net(x)

        return run
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.onnx"
        with torch.no_grad():
            torch.onnx.export(net, (x,), path, dynamo=False)
        del net
        if peer == "onnxruntime":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            feed = {session.get_inputs()[0].name: x.numpy()}
            return lambda: torch.from_numpy(session.run(None, feed)[0])
        import openvino

        core = openvino.Core()
        config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
        feed = {0: x.numpy()}
        return lambda: torch.from_numpy(next(iter(request.infer(feed).values())))


def resident_mib():
    with open("/proc/self/status") as status:
        kib = next(line.split()[1] for line in status if line.startswith("VmRSS:"))
    return int(kib) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--peer", required=True, choices=("torch", "torch-last", "onnxruntime", "openvino"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    # The first convolution sets up the thread pool and the kernels' own memory.
    F.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    if args.workload in INFERENCE:
        run = inference(args.workload, args.peer, args.threads)
    else:
        run = training(args.workload, args.peer == "torch-last")
    # What making the network left behind does not count, and neither does its peak.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    loaded = resident_mib()
    result = run()
    check = None
    if args.workload in INFERENCE:
        values = result.contiguous().double().flatten()
        step = values.numel() // 8
        check = [values[i * step].item() for i in range(8)] + [(values**2).mean().item()]
    run()
    times, began = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < args.seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
    print(
        json.dumps(
            {
                "workload": args.workload,
                "peer": args.peer,
                "ms": statistics.median(times),
                "runs": len(times),
                "extra_mib": peak - loaded,
                "check": check,
            }
        )
    )


if __name__ == "__main__":
    main()
