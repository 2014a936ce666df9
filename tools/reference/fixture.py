"""Reproducible inputs, the file format and the comparison of fixtures.

A case is a function of the floating-point type. It runs in float64, whose results are stored (rounded
to float32 unless the case asks for float64), and once more in float32, which says how close a
float32 implementation can come: the yardstick in the file's header.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from safetensors import safe_open

FOLDER = Path(__file__).resolve().parents[2] / "testdata" / "twins"
DTYPES = {torch.float32: "F32", torch.float64: "F64"}

# Gradients smaller than this share of the model's largest carry no digits in float32.
FLOOR = 1e-4


@dataclass
class Case:
    """One file: `build(dtype)` returns its tensors by name; `keep` names the prefixes stored in float64."""

    name: str
    settings: dict
    build: Callable[[torch.dtype], dict]
    keep: tuple = field(default=())


class Draws:
    """Random numbers of one case, the same in every floating-point type: drawn, rounded to float32."""

    def __init__(self, name, dtype):
        self.generator = np.random.default_rng(zlib.crc32(name.encode()))
        self.dtype = dtype

    def as_tensor(self, array):
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.dtype)

    def normal(self, *shape, scale=1.0):
        return self.as_tensor(scale * self.generator.standard_normal(shape))

    def uniform(self, low, high, *shape):
        return self.as_tensor(self.generator.uniform(low, high, shape))

    def below(self, n, *shape):
        """Whole numbers, held in floating point as the files hold them."""
        return self.as_tensor(self.generator.integers(0, n, shape))

    def bytes(self, *shape):
        """Pixels k/255 with both ends taken."""
        values = self.generator.integers(0, 256, shape)
        values.flat[0], values.flat[1] = 0, 255
        return self.as_tensor(values / 255)

    def fill(self, module):
        """Overwrites every parameter and running statistic; no tensor is left zero or one."""
        module.to(self.dtype)
        norms = (torch.nn.BatchNorm2d, torch.nn.GroupNorm)
        with torch.no_grad():
            for path, owner in module.named_modules():
                for key, p in owner.named_parameters(recurse=False):
                    if key == "log_scale":
                        p.copy_(self.uniform(-2.2, -1.4, *p.shape))
                    elif isinstance(owner, torch.nn.Embedding):
                        p.copy_(self.normal(*p.shape, scale=0.5))
                    elif p.ndim > 1:
                        p.copy_(self.normal(*p.shape, scale=1.2 / fan_in(owner) ** 0.5))
                    elif isinstance(owner, norms) and key == "weight":
                        p.copy_((1 + self.normal(*p.shape, scale=0.2)).float())
                    elif path.endswith("qkv"):
                        # The keys' bias has no gradient, so Adam moves it by rounding noise: the
                        # tensor is made large enough for that to stay below the tolerance.
                        p.copy_(self.normal(*p.shape, scale=1.0))
                    else:
                        p.copy_(self.normal(*p.shape, scale=0.2))
                for key, b in owner.named_buffers(recurse=False):
                    if key == "running_mean":
                        b.copy_(self.normal(*b.shape, scale=0.2))
                    elif key == "running_var":
                        b.copy_(self.uniform(0.5, 1.5, *b.shape))
        return module


def fan_in(layer):
    """How many inputs one output value sums."""
    weight = layer.weight
    if isinstance(layer, torch.nn.ConvTranspose2d):
        return max(weight[:, 0].numel() / (layer.stride[0] * layer.stride[1]), weight.shape[0])
    return weight[0].numel()


def state(module, prefix):
    """A copy of parameters and running statistics, without the batch counters."""
    kept = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {prefix + k: v.detach().clone() for k, v in kept.items()}


def gradients(module, prefix):
    return {prefix + k: p.grad.clone() for k, p in module.named_parameters()}


def scalar(value):
    return value.detach().reshape(1).clone()


def norm(tensor):
    return torch.linalg.vector_norm(tensor.double()).item()


def network_of(name):
    """Which network's floor a gradient is held to: the first part of a path of a two-network family."""
    first = name.split("/", 1)[1].split(".", 1)[0]
    return first if first in ("generator", "discriminator") else ""


def under_floor(tensors):
    """Gradients below the floor of their network, without the prefix."""
    largest = largest_gradients(tensors)
    grads = (k for k in tensors if k.startswith("grad/"))
    return sorted(k.removeprefix("grad/") for k in grads if norm(tensors[k]) < FLOOR * largest[network_of(k)])


def largest_gradients(tensors):
    largest = {}
    for k, v in tensors.items():
        if k.startswith("grad/"):
            largest[network_of(k)] = max(largest.get(network_of(k), 0.0), norm(v))
    return largest


def yardstick(reference, single, entrywise):
    """Worst distance of a float32 run per group, in the terms of the Rust tests, and where it is.

    Distances are ||a - r|| / ||r||, for gradients with the floor; tables go entry by entry, |a - r| / max(1, |r|).
    """
    largest, left_out = largest_gradients(reference), under_floor(reference)
    worst = {}
    for key, r in reference.items():
        group, _, path = key.partition("/")
        if group in ("weights", "input") or (group == "after3" and path in left_out):
            continue
        size = norm(r)
        if group == "grad":
            size = max(size, FLOOR * largest[network_of(key)])
        distance = norm(single[key].double() - r) / max(size, 1e-30)
        if entrywise:
            distance = ((single[key].double() - r).abs() / r.abs().clamp(min=1)).max().item()
        if distance >= worst.get(group, ("", -1.0))[1]:
            worst[group] = (path, distance)
    return {g: {"tensor": p, "distance": float(f"{d:.1e}")} for g, (p, d) in sorted(worst.items())}


def render(case):
    """Tensors and header of one file."""
    reference = case.build(torch.float64)
    stored = {}
    for key, value in reference.items():
        kept = key.startswith(case.keep) if case.keep else False
        stored[key] = (value.double() if kept else value.float()).contiguous()
        assert torch.isfinite(value).all(), (case.name, key)
        if key.startswith(("weights/", "input/")):
            assert torch.equal(stored[key].double(), value), (case.name, key, "is not held by float32")
    header = {
        "case": case.name,
        "settings": json.dumps(case.settings, sort_keys=True),
        "torch": torch.__version__,
        "computed_in": "float64",
        "float32_run": json.dumps(yardstick(reference, case.build(torch.float32), bool(case.keep)), sort_keys=True),
        "under_floor": json.dumps(under_floor(reference)),
    }
    return stored, header


def encode(tensors, header):
    """The safetensors bytes, keys in order: the same content gives the same bytes."""
    order = sorted(tensors, key=lambda k: (tensors[k].dtype != torch.float64, k))
    entries, blobs, at = {"__metadata__": header}, [], 0
    for key in order:
        blob = tensors[key].numpy().tobytes()
        entries[key] = {
            "dtype": DTYPES[tensors[key].dtype],
            "shape": list(tensors[key].shape),
            "data_offsets": [at, at + len(blob)],
        }
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(entries, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def read(path):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata()


def differences(path, tensors, header):
    """What differs between a stored file and a fresh computation, one line each."""
    if not path.exists():
        return ["missing"]
    old, old_header = read(path)
    found = [f"header {k}" for k in ("case", "settings") if old_header.get(k) != header[k]]
    found += [f"only in one of the two: {k}" for k in sorted(old.keys() ^ tensors.keys())]
    for key in sorted(old.keys() & tensors.keys()):
        a, b = old[key], tensors[key]
        if a.shape != b.shape or a.dtype != b.dtype:
            found.append(f"{key}: {tuple(a.shape)} {a.dtype} is now {tuple(b.shape)} {b.dtype}")
        elif key.startswith(("weights/", "input/")):
            if not torch.equal(a, b):
                found.append(f"{key}: drawn differently")
        elif norm(a.double() - b.double()) > 1e-6 * norm(b) + 1e-12:
            found.append(f"{key}: differs by {norm(a.double() - b.double()):.2e} of {norm(b):.2e}")
    return found
