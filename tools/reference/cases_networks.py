"""Writes `networks.safetensors` and `vgg16.safetensors` of `testdata/metrics`: frozen networks with formula weights.

python cases_networks.py            write both
python cases_networks.py --check    compute again and compare; exit 1 if anything differs
python cases_networks.py vgg        only the files with one of these words in their name

Inception and VGG16 are those of torch-fidelity 0.4.0, LPIPS is that of lpips 0.1.4 over torchvision 0.26.0;
LeNet and GoogleNet are written here and agree with the references of their published checkpoints to rounding.
No published weights are needed: `settings.tensors` in the header lists every tensor of a network in the order
of its number k, and `formula` below makes its values. All is computed in float64 from weights and inputs that
float32 holds exactly (torch-fidelity rounds what it returns to float32).
"""

import argparse
import io
import os
import sys
import warnings

import lpips
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from fixture import FOLDER, Case, differences, encode, render

TARGET = FOLDER.parent / "metrics"
LARGEST_FILE = 300_000
BLOCK = 1 << 22

# The features of real images are of this size with these factors; without them they are eight times larger.
LAST_NORMS = ("branch1x1", "branch3x3_2a", "branch3x3_2b", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool")
GOOGLENET_BLOCKS = {
    0: (64, 16, (32, 32), (16, 8), 8),
    1: (64, 24, (32, 48), (16, 12), 12),
    3: (96, 24, (32, 48), (16, 12), 12),
    4: (96, 16, (32, 48), (16, 16), 16),
    5: (96, 16, (32, 48), (16, 16), 16),
    6: (96, 32, (32, 48), (16, 24), 24),
    8: (128, 32, (48, 64), (16, 16), 16),
    9: (128, 32, (48, 64), (16, 16), 16),
}


def unit(k, first, count):
    """Numbers in [-1, 1) of the tensor k, by splitmix64 of (k << 32) + index."""
    with np.errstate(over="ignore"):
        z = (np.uint64(k) << np.uint64(32)) + np.arange(first, first + count, dtype=np.uint64)
        z += np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return 2.0 * (z >> np.uint64(40)).astype(np.float64) / 16777216.0 - 1.0


def formula(k, shape, rule, scale):
    """The values of a tensor, in float64 and rounded once to float32."""
    count = int(np.prod(shape))
    values = np.empty(count, dtype=np.float32)
    for first in range(0, count, BLOCK):
        s = unit(k, first, min(BLOCK, count - first))
        by_rule = {
            "weight": lambda s: np.sqrt(9.0 / np.prod(shape[1:])) * s,
            "bias": lambda s: 0.1 * s,
            "bn.weight": lambda s: 1.0 + 0.1 * s,
            "bn.bias": lambda s: 0.1 * s,
            "bn.running_mean": lambda s: 0.1 * s,
            "bn.running_var": lambda s: 1.0 + 0.5 * np.abs(s),
            "head": np.abs,
        }
        values[first : first + len(s)] = by_rule[rule](s) * scale
    return torch.from_numpy(values.reshape(shape))


def table(shapes, norms=(), heads=()):
    """Key, shape, rule and scale of every tensor; `norms` are the names of batch normalisations."""
    rows = []
    for key, shape in shapes:
        owner, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        rule = f"bn.{leaf}" if owner in norms else leaf
        rows.append([key, list(shape), "head" if key in heads else rule, 1.0])
    return rows


def weights(rows):
    return {key: formula(k, shape, rule, scale) for k, (key, shape, rule, scale) in enumerate(rows)}


def shapes_of(state):
    return [(key, tuple(tensor.shape)) for key, tensor in state.items()]


def as_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def bytes_image(n, channels, height, width):
    """Synthetic bytes: waves of another length and phase in every image and channel, and a grain."""
    image, channel, y, x = np.indices((n, channels, height, width)).astype(np.float64)
    wave = np.sin(0.31 * x + 0.23 * y * (1 + image) + channel) + np.cos(0.11 * x * y / (2 + channel) + 2 * image)
    grain = ((x * 7 + y * 13 + channel * 5 + image * 29) % 17) / 17 - 0.5
    return np.clip(np.rint(127.5 + 55 * wave + 60 * grain), 0, 255)


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's, without reading a file, in any floating-point type."""

    NAMES = ["64", "192", "768", "2048", "logits_unbiased", "logits"]

    def __init__(self, state, dtype):
        super().__init__("inception", self.NAMES, as_file(state))
        self.feature_extractor_internal_dtype = dtype
        self.to(dtype)


class Blank(FeatureExtractorInceptionV3):
    """The same with the weights it was born with, which are never used."""

    def load_state_dict(self, _):
        pass


def inception_table():
    state = Blank("inception", ["2048"], as_file({})).state_dict()
    norms = {key.rpartition(".")[0] for key in state if key.endswith("running_var")}
    rows = table(shapes_of(state), norms)
    for row in rows:
        if any(row[0] in (f"Mixed_7c.{name}.bn.weight", f"Mixed_7c.{name}.bn.bias") for name in LAST_NORMS):
            row[3] = 0.125
        if row[0] == "fc.weight":
            row[3] = 8.0
    return rows


def lpips_net(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips.LPIPS(pretrained=False, net=name, pnet_rand=True, verbose=False)


def lpips_table(name):
    state = lpips_net(name).state_dict()
    kept = [(key, shape) for key, shape in shapes_of(state) if not key.startswith(("scaling_layer.", "lins."))]
    return table(kept, heads={key for key, _ in kept if key.startswith("lin")})


def lpips_outputs(name, rows, a, b, dtype):
    net, values = lpips_net(name), weights(rows)
    missing, unexpected = net.load_state_dict(values, strict=False)
    # The heads are listed twice and share their tensors.
    assert not unexpected and all(key.startswith(("scaling_layer.", "lins.")) for key in missing)
    distance, layers = net.to(dtype)(a, b, retPerLayer=True)
    layers = torch.cat([layer.reshape(-1, 1) for layer in layers], 1)
    return {f"output/lpips.{name}": distance.reshape(-1), f"output/lpips.{name}.layers": layers}


LENET = table(
    [
        (f"{name}.{leaf}", shape if leaf == "weight" else shape[:1])
        for name, shape in (
            ("convnet.c1", (6, 1, 5, 5)),
            ("convnet.c3", (16, 6, 5, 5)),
            ("convnet.c5", (120, 16, 5, 5)),
            ("fc.f6", (84, 120)),
            ("fc.f7", (10, 84)),
        )
        for leaf in ("weight", "bias")
    ]
)


def lenet_outputs(w, x):
    def conv(x, name):
        return F.relu(F.conv2d(x, w[f"convnet.{name}.weight"], w[f"convnet.{name}.bias"]))

    x = F.max_pool2d(conv(x, "c1"), 2)
    x = F.max_pool2d(conv(x, "c3"), 2)
    c5 = conv(x, "c5").flatten(1)
    features = F.relu(F.linear(c5, w["fc.f6.weight"], w["fc.f6.bias"]))
    logits = F.linear(features, w["fc.f7.weight"], w["fc.f7.bias"])
    out = {"c5": c5, "features": features, "logits": logits, "log_softmax": F.log_softmax(logits, 1)}
    return {f"output/lenet.{name}": value for name, value in out.items()}


def googlenet_table():
    layers = [("input_net.0", "input_net.1", (64, 3, 3, 3))]
    for i, (c, one, three, five, pool) in GOOGLENET_BLOCKS.items():
        block = f"inception_blocks.{i}"
        layers.append((f"{block}.conv_1x1.0", f"{block}.conv_1x1.1", (one, c, 1, 1)))
        for size, (inner, outer) in ((3, three), (5, five)):
            branch = f"{block}.conv_{size}x{size}"
            layers.append((f"{branch}.0", f"{branch}.1", (inner, c, 1, 1)))
            layers.append((f"{branch}.3", f"{branch}.4", (outer, inner, size, size)))
        layers.append((f"{block}.max_pool.1", f"{block}.max_pool.2", (pool, c, 1, 1)))
    shapes = []
    for conv, norm, shape in layers:
        shapes += [(f"{conv}.weight", shape), (f"{conv}.bias", shape[:1])]
        shapes += [(f"{norm}.{leaf}", shape[:1]) for leaf in ("weight", "bias", "running_mean", "running_var")]
    shapes += [("output_net.2.weight", (10, 128)), ("output_net.2.bias", (10,))]
    return table(shapes, {norm for _, norm, _ in layers})


def googlenet_outputs(w, x):
    def layer(x, conv, norm):
        weight = w[f"{conv}.weight"]
        y = F.conv2d(x, weight, w[f"{conv}.bias"], padding=weight.shape[-1] // 2)
        statistics = [w[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(y, *statistics, training=False, eps=1e-5))

    x = layer(x, "input_net.0", "input_net.1")
    for i in range(10):
        if i not in GOOGLENET_BLOCKS:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
            continue
        block = f"inception_blocks.{i}"
        branches = [layer(x, f"{block}.conv_1x1.0", f"{block}.conv_1x1.1")]
        for size in (3, 5):
            branch = f"{block}.conv_{size}x{size}"
            branches.append(layer(layer(x, f"{branch}.0", f"{branch}.1"), f"{branch}.3", f"{branch}.4"))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        branches.append(layer(pooled, f"{block}.max_pool.1", f"{block}.max_pool.2"))
        x = torch.cat(branches, 1)
    features = x.mean((2, 3))
    logits = F.linear(features, w["output_net.2.weight"], w["output_net.2.bias"])
    return {"output/googlenet.features": features, "output/googlenet.logits": logits}


TABLES = {
    "inception": inception_table(),
    "alex": lpips_table("alex"),
    "vgg": lpips_table("vgg"),
    "squeeze": lpips_table("squeeze"),
    "lenet": LENET,
    "googlenet": googlenet_table(),
}


def held(array, dtype):
    """A tensor of numbers that float32 holds."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(dtype)


@torch.no_grad()
def build_networks(dtype):
    picture = bytes_image(2, 3, 27, 22)
    out = {"input/inception": held(picture, dtype)}
    state = weights(TABLES["inception"])
    state |= {k.replace("running_var", "num_batches_tracked"): torch.tensor(0) for k in state if "running_var" in k}
    for name, value in zip(Inception.NAMES, Inception(state, dtype)(torch.from_numpy(picture).to(torch.uint8))):
        out[f"output/inception.{name}"] = value.to(dtype)

    # An odd and an even side: SqueezeNet's pools take what is left at the edges.
    a = bytes_image(2, 3, 38, 33)
    b = np.clip(a + 40 * np.sin(np.arange(a.size)).reshape(a.shape), 0, 255)
    b[1] = np.roll(a[1], 1, axis=2)
    a, b = (held(pixels / 127.5 - 1, dtype) for pixels in (a, b))
    out |= {"input/lpips.a": a, "input/lpips.b": b}
    for name in ("alex", "vgg", "squeeze"):
        out |= lpips_outputs(name, TABLES[name], a, b, dtype)

    for name, channels, outputs in (("lenet", 1, lenet_outputs), ("googlenet", 3, googlenet_outputs)):
        x = held(bytes_image(2, channels, 32, 32) / 255, dtype)
        w = {key: value.to(dtype) for key, value in weights(TABLES[name]).items()}
        out |= {f"input/{name}": x} | outputs(w, x)
    return out


def vgg16_table():
    with torch.device("meta"):
        return table(shapes_of(torchvision.models.vgg16(init_weights=False).state_dict()))


@torch.no_grad()
def build_vgg16(dtype):
    picture = bytes_image(1, 3, 27, 22)
    net = FeatureExtractorVGG16("vgg16", ["fc2", "fc2_relu"], as_file(weights(vgg16_table())))
    net.feature_extractor_internal_dtype = dtype
    before, after = net.to(dtype)(torch.from_numpy(picture).to(torch.uint8))
    out = {"input/vgg16": held(picture, dtype)}
    return out | {"output/vgg16.fc2": before.to(dtype), "output/vgg16.fc2_relu": after.to(dtype)}


def cases():
    yield Case("networks", {"tensors": TABLES}, build_networks)
    yield Case("vgg16", {"tensors": {"vgg16": vgg16_table()}}, build_vgg16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="words of file names; all files when absent")
    parser.add_argument("--check", action="store_true", help="compare with the stored files, write nothing")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    TARGET.mkdir(parents=True, exist_ok=True)
    failed = False
    for case in cases():
        if args.words and not any(word in case.name for word in args.words):
            continue
        path = TARGET / f"{case.name}.safetensors"
        tensors, header = render(case)
        if args.check:
            found = differences(path, tensors, header)
            failed |= bool(found)
            print(f"{case.name}: {'; '.join(found) or 'same'}")
            continue
        data = encode(tensors, header)
        assert len(data) <= LARGEST_FILE, (case.name, len(data))
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
        print(f"{case.name}: {len(data)} bytes; float32 {header['float32_run']}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
