"""Writes tests/golden/torch/: small files as torch.save writes them, for tests/core/torch_file_test.cpp and tests/models/pretrained_test.cpp.

    python3 tools/make_torch_files.py [--out tests/golden/torch]

Needs torch and numpy; the tests need neither. In every file the tensors that are to be found have the values of expected.safetensors, which has them
contiguous and with float16 and bfloat16 widened. The weights of networks are functions of their names, as in network_goldens.py.
The older format's keys are addresses, so another run gives other bytes.
"""

import argparse
import collections
import datetime
import io
import os
import zipfile

import numpy
import torch

from model_goldens import save
from network_goldens import initial_value

FILE_LIMIT = 20_000
NETWORK_LIMIT = 100_000


class Config:
    """An object of a class that only this script knows, as training programs put theirs beside the weights."""

    def __init__(self):
        self.text, self.weight = "model = dict(type='EncoderDecoder')\n" * 3, torch.ones(2)


def counted(*shape, dtype=torch.float32):
    return (torch.arange(int(numpy.prod(shape)), dtype=torch.float64) % 7 - 3).reshape(shape).to(dtype)


def plain_state():
    """Every type, scalars and empty tensors."""
    state = collections.OrderedDict()
    state["conv.weight"] = counted(3, 2, 1, 2)
    state["conv.bias"] = torch.nn.Parameter(counted(3) + 10)
    state["bn.num_batches_tracked"] = torch.tensor(-(2**40))
    state["half"] = counted(5, dtype=torch.float16) / 2
    state["bfloat"] = counted(2, 3, dtype=torch.bfloat16) * 4
    state["double"] = counted(4, dtype=torch.float64) / 3
    state["int"] = counted(2, 2, dtype=torch.int32)
    state["byte"] = (counted(6) + 3).to(torch.uint8)
    state["bool"] = counted(4) > 0
    state["scalar"] = torch.tensor(0.25)
    state["empty"] = torch.zeros(3, 0, 2)
    state._metadata = {"": {"version": 1}}
    return state


def strided_state():
    """Views: transposed, cut out, of one storage, repeated, in another memory format."""
    whole = counted(6, 5)
    return {
        "whole": whole,
        "transposed": whole.t(),
        "cut": whole[1:5:2, 2:],
        "row": whole[3],
        "one": whole[2:3, 4:5],
        "repeated": torch.tensor([7.0, 8.0]).reshape(2, 1).expand(2, 3),
        "channels_last": counted(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "half_cut": counted(4, 4, dtype=torch.float16)[:, ::2],
        "again": whole,
    }


def nested(state):
    """A training program's file: the state among objects that nobody outside has the classes of."""
    parameters = [torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    parameters[0].sum().backward()
    optimizer.step()
    return {
        "meta": {"config": Config(), "time": datetime.datetime(2024, 5, 6, 7, 8), "seed": numpy.random.RandomState(1), "best": numpy.float64(0.5),
                 "history": numpy.arange(5), "classes": ("wall", "sky"), "kinds": {1, 2}, "none": None, "frozen": frozenset([3]), "huge": 1 << 100,
                 "bytes": b"\x00\xff", "complex": 1 + 2j},
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
    }


def resnet18(width):
    """The state of torchvision's ResNet-18 of this width, filters in the memory format that is fast on GPUs."""
    state = collections.OrderedDict()

    def add(name, *shape):
        state[name] = initial_value(name, torch.empty(shape)).float()

    def add_norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.{part}", channels)
        state[f"{name}.num_batches_tracked"] = torch.tensor(5)

    add("conv1.weight", width, 3, 7, 7)
    add_norm("bn1", width)
    before = width
    for stage in range(4):
        channels = width << stage
        for block in range(2):
            name = f"layer{stage + 1}.{block}"
            add(f"{name}.conv1.weight", channels, before, 3, 3)
            add_norm(f"{name}.bn1", channels)
            add(f"{name}.conv2.weight", channels, channels, 3, 3)
            add_norm(f"{name}.bn2", channels)
            if channels != before:
                add(f"{name}.downsample.0.weight", channels, before, 1, 1)
                add_norm(f"{name}.downsample.1", channels)
            before = channels
    add("fc.weight", 5, before)
    add("fc.bias", 5)
    return collections.OrderedDict((name, value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value) for name, value in state.items())


def widened(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).contiguous()


def deflated(data):
    """The same archive, packed by another program."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return packed.getvalue()


def saved(value, **options):
    data = io.BytesIO()
    torch.save(value, data, **options)
    return data.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "torch"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    plain, strided, old = plain_state(), strided_state(), {"_use_new_zipfile_serialization": False}
    wrapped = {"model": {"module." + name: value for name, value in plain.items()}, "model_ema": {}, "iteration": 7}
    files = {
        "plain_zip": saved(plain),
        "plain_legacy": saved(plain, **old),
        "plain_protocol5": saved(plain, pickle_protocol=5),
        "plain_legacy_protocol4": saved(plain, pickle_protocol=4, **old),
        "plain_deflated": deflated(saved(plain)),
        "strided_zip": saved(strided),
        "strided_legacy": saved(strided, **old),
        "nested_zip": saved(nested(plain)),
        "nested_legacy": saved(nested(plain), **old),
        "nested_protocol4": saved(nested(plain), pickle_protocol=4),
        "wrapped_zip": saved(wrapped),
        "small_zip": saved({"w": torch.tensor([1.0, 2.0])}),
        "small_legacy": saved({"w": torch.tensor([1.0, 2.0])}, **old),
        "float8_zip": saved({"w": torch.ones(2).to(torch.float8_e4m3fn)}),
        "int16_zip": saved({"w": torch.ones(2, dtype=torch.int16)}),
        "sparse_zip": saved({"w": torch.ones(2), "s": torch.eye(2).to_sparse()}),
        "module_zip": saved(torch.nn.Linear(2, 1)),
    }
    network = resnet18(2)
    parameters = collections.OrderedDict((name, torch.nn.Parameter(value, value.is_floating_point())) for name, value in network.items() if not name.endswith("tracked"))
    backbone = {"module.backbone." + name: value for name, value in network.items() if not name.startswith("fc.")}
    head = {"module.decode_head.conv_seg.bias": torch.zeros(5)}
    files["resnet18_legacy"] = saved(parameters, **old)  # as torchvision's first files: parameters, no counters
    files["resnet18_zip"] = saved({"meta": Config(), "state_dict": backbone | head, "optimizer": {}})
    for name, data in files.items():
        assert len(data) < (NETWORK_LIMIT if "resnet" in name else FILE_LIMIT), f"{name} has {len(data)} bytes"
        with open(os.path.join(out, name + ".pth"), "wb") as file:
            file.write(data)
    expected = {f"plain/{name}": widened(value) for name, value in plain.items() if value.dtype != torch.bool}
    expected["plain/bool"] = plain["bool"].to(torch.uint8)  # the writer knows no bool
    expected |= {f"strided/{name}": widened(value) for name, value in strided.items()}
    save(os.path.join(out, "expected.safetensors"), expected, {}, FILE_LIMIT)


if __name__ == "__main__":
    main()
