"""Writes tests/golden/*.safetensors: PyTorch's answers, in float64, to what the engine computes.

    python3 tools/make_goldens.py [--out tests/golden] [--shared ../shared/data] [NAME ...]

Needs torch and numpy (for --shared also Pillow and safetensors, for other libraries' networks timm and torchvision); the tests that read the files need
none of them. Every random number comes from a seed made of the case's name, so a run rewrites the same files (up to the last bits of another PyTorch version).

Operators: keys "<case>.<tensor>", metadata "<case>" a JSON object of options. Tensors are in the engine's layout (images
[N,H,W,C], filters [O,kh,kw,I]): the inputs, "output", "grad_output", and "grad_<input>" for every differentiable input.
Inputs are multiples of 1/1024, so float32 holds them exactly and the same file tests both precisions.
Whole models: model_goldens.py, network_goldens.py; other libraries' networks: published_goldens.py.
"""

import argparse
import importlib.util
import json
import os
import zlib

import torch
from torch.nn import functional as F

from model_goldens import MODELS, model_goldens, save
from network_goldens import NETWORKS, WEIGHTS, network_goldens, picture_goldens
from published_goldens import PUBLISHED, published_goldens

torch.set_num_threads(1)  # sums in one order

FILE_LIMIT = 200_000


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def smallest(x):
    """In float32 where that holds the same values, to halve the inputs' share of the file."""
    return x.float() if x.dtype == torch.float64 and torch.equal(x.float().double(), x) else x


class OperatorFile:
    """Cases of one operator (or family), drawn, differentiated and collected."""

    def __init__(self, name):
        self.name, self.tensors, self.metadata = name, {}, {}
        self.generator = torch.Generator()

    def seed(self, case):
        self.generator.manual_seed(zlib.crc32(f"{self.name}/{case}".encode()))

    def normal(self, *shape):
        return (torch.randn(shape, generator=self.generator, dtype=torch.float64) * 1024).round() / 1024

    def uniform(self, low, high, *shape):
        values = low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (values * 1024).round() / 1024

    def integers(self, low, high, *shape, dtype=torch.int32):
        return torch.randint(low, high, shape, generator=self.generator).to(dtype)

    def distinct(self, *shape):
        count = int(torch.tensor(shape).prod())
        return ((torch.randperm(count, generator=self.generator) * 2 - count).to(torch.float64) / 512).reshape(shape)

    def add(self, case, function, inputs, options=None, constants=None, differentiable=True):
        """inputs: name -> shape (drawn normal) or tensor; function takes them by name and returns a tensor, or a tensor and
        a dict of further results to keep. Constants are stored beside the inputs and reach the function by closure."""
        leaves = {}
        for name, value in inputs.items():
            value = self.normal(*value) if isinstance(value, tuple) else value
            leaves[name] = value.clone().requires_grad_(differentiable)
        output = function(**leaves)
        output, extra = output if isinstance(output, tuple) else (output, {})
        kept = dict(constants or {}, **extra, output=output)
        if differentiable:
            kept["grad_output"] = self.normal(*output.shape)
            output.backward(kept["grad_output"])
            kept.update({f"grad_{name}": leaf.grad for name, leaf in leaves.items()})
        kept.update(leaves)
        assert case not in self.metadata, f"{self.name} has two cases {case}"
        for name, value in kept.items():
            self.tensors[f"{case}.{name}"] = smallest(value.detach().clone().contiguous())
        self.metadata[case] = json.dumps(options or {})

    def write(self, folder):
        save(os.path.join(folder, self.name + ".safetensors"), self.tensors, self.metadata, FILE_LIMIT)


# --- operators -----------------------------------------------------------------------------------------------------------


def binary(file):
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
                 "minimum": torch.minimum}
    shapes = {"same": ((3, 5), (3, 5)), "broadcast": ((2, 3, 1, 5), (4, 1)), "scalar": ((), (3, 7)),
              "channels": ((2, 3, 4, 6), (6,))}
    for op, function in functions.items():
        for shape_name, (a, b) in shapes.items():
            file.seed(op + shape_name)
            a, b = file.normal(*a), file.normal(*b)
            if op == "div":
                b = torch.where(b.abs() < 0.25, b + 1, b)
            file.add(f"{op}_{shape_name}", lambda a, b: function(a, b), {"a": a, "b": b}, {"op": op})
    for op in ("maximum", "minimum"):  # ties: each argument gets half of the gradient
        file.seed(op + "ties")
        a = file.integers(-1, 2, 4, 6, dtype=torch.float64)
        b = file.integers(-1, 2, 4, 6, dtype=torch.float64)
        file.add(f"{op}_ties", lambda a, b: functions[op](a, b), {"a": a, "b": b}, {"op": op})


def unary(file):
    anything, positive = (-3, 3), (0.125, 4)
    table = {
        "neg": (torch.neg, anything), "exp": (torch.exp, anything), "log": (torch.log, positive),
        "sqrt": (torch.sqrt, positive), "rsqrt": (torch.rsqrt, positive), "square": (torch.square, anything),
        "reciprocal": (torch.reciprocal, positive), "abs": (torch.abs, anything), "sin": (torch.sin, anything),
        "cos": (torch.cos, anything), "tanh": (torch.tanh, anything),
        "sigmoid": (torch.sigmoid, (-20, 20)), "softplus": (lambda x: F.softplus(x, threshold=600), (-40, 40)),
        "relu": (F.relu, anything), "relu6": (F.relu6, (-3, 9)), "gelu": (F.gelu, (-6, 6)), "silu": (F.silu, (-20, 20)),
        "hardswish": (F.hardswish, (-5, 5)),
    }
    for op, (function, (low, high)) in table.items():
        file.seed(op)
        x = file.uniform(low, high, 5, 9)
        if op in ("abs", "relu"):
            x[0, :3] = 0  # the gradient is 0 there
        file.add(op, lambda x: function(x), {"x": x}, {"op": op})
    with_parameters = {
        "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), anything, {"slope": 0.1}),
        "clamp": (lambda x: torch.clamp(x, -1.2345, 0.7654), anything, {"low": -1.2345, "high": 0.7654}),
        "add_scalar": (lambda x: x + 1.7, anything, {"value": 1.7}),
        "mul_scalar": (lambda x: x * -0.3, anything, {"value": -0.3}),
        "pow_3": (lambda x: torch.pow(x, 3), anything, {"value": 3.0, "op": "pow"}),
        "pow_half": (lambda x: torch.pow(x, 0.5), positive, {"value": 0.5, "op": "pow"}),
        "pow_negative": (lambda x: torch.pow(x, -1.5), positive, {"value": -1.5, "op": "pow"}),
        "pow_0": (lambda x: torch.pow(x, 0), anything, {"value": 0.0, "op": "pow"}),
    }
    for case, (function, (low, high), options) in with_parameters.items():
        file.seed(case)
        file.add(case, lambda x: function(x), {"x": file.uniform(low, high, 4, 11)}, dict({"op": case}, **options))


def reduce(file):
    shape = (2, 3, 4, 5)
    variants = {"all": [], "last": [-1], "first": [0], "images": [0, 1, 2], "middle": [1, -2], "outer": [0, 3]}
    for name, axes in variants.items():
        for keepdim in (False, True):
            dim = tuple(axes) or tuple(range(4))
            options = {"axes": axes, "keepdim": keepdim}
            case = f"{name}_{'keep' if keepdim else 'drop'}"
            file.seed(case)
            file.add(f"sum_{case}", lambda x: torch.sum(x, dim, keepdim), {"x": shape}, dict(op="sum", **options))
            file.add(f"mean_{case}", lambda x: torch.mean(x, dim, keepdim), {"x": shape}, dict(op="mean", **options))
            for unbiased in (False, True):
                file.add(f"var_{'unbiased' if unbiased else 'biased'}_{case}",
                         lambda x: torch.var(x, dim, unbiased=unbiased, keepdim=keepdim), {"x": shape},
                         dict(op="var", unbiased=unbiased, **options))
    for axis in (0, 1, -1):
        for keepdim in (False, True):
            case = f"max_axis{axis}_{'keep' if keepdim else 'drop'}"
            file.seed(case)
            file.add(case, lambda x: torch.max(x, axis, keepdim).values, {"x": file.distinct(3, 4, 7)},
                     {"op": "max", "axis": axis, "keepdim": keepdim})
        file.seed(f"argmax{axis}")
        file.add(f"argmax_axis{axis}", lambda x: torch.argmax(x, axis), {"x": file.distinct(3, 4, 7)},
                 {"op": "argmax", "axis": axis}, differentiable=False)


def shape(file):
    def add(op, case, function, options, *shapes):
        file.seed(op + case)
        inputs = {"x": shapes[0]} if len(shapes) == 1 else {f"x{i}": s for i, s in enumerate(shapes)}
        file.add(f"{op}_{case}", function, inputs, dict(op=op, **options))

    add("reshape", "infer", lambda x: x.reshape(4, -1), {"extents": [4, -1]}, (2, 6, 5))
    add("reshape", "flat", lambda x: x.reshape(-1), {"extents": [-1]}, (3, 1, 5))
    for axes in ([0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 3, 2]):
        add("permute", "".join(map(str, axes)), lambda x: x.permute(axes), {"axes": axes}, (2, 3, 4, 5))
    for a, b in ((0, 1), (1, -1), (0, 2)):
        add("transpose", f"{a}_{b}", lambda x: x.transpose(a, b), {"a": a, "b": b}, (3, 4, 5))
    add("expand", "new_axes", lambda x: x.expand(2, 3, 4, 5), {"shape": [2, 3, 4, 5]}, (4, 1))
    add("expand", "scalar", lambda x: x.expand(3, 2), {"shape": [3, 2]}, ())
    for axis, begin, end in ((0, 1, 3), (1, 0, 2), (3, 2, 7), (-2, 1, 2)):
        add("slice", f"{axis}_{begin}_{end}", lambda x: x.narrow(axis, begin, end - begin),
            {"axis": axis, "begin": begin, "end": end}, (3, 2, 4, 7))
    add("concat", "channels", lambda x0, x1, x2: torch.cat([x0, x1, x2], -1), {"axis": -1}, (2, 3, 3, 5), (2, 3, 3, 1),
        (2, 3, 3, 4))
    add("concat", "batch", lambda x0, x1: torch.cat([x0, x1], 0), {"axis": 0}, (2, 3, 4), (1, 3, 4))
    add("concat", "rows", lambda x0, x1: torch.cat([x0, x1], 1), {"axis": 1}, (2, 3, 4), (2, 2, 4))
    for axis, shape_of_x in ((0, (6, 2, 4)), (1, (2, 6, 4)), (-1, (2, 4, 6))):
        def ends(x):
            first, _, last = x.split([2, 1, 3], axis)
            return torch.cat([last, first], axis)

        add("split", str(axis), ends, {"axis": axis, "extents": [2, 1, 3]}, shape_of_x)
    for top, bottom, left, right, value in ((1, 2, 3, 0, 0.0), (0, 1, 1, 1, -2.5), (-1, 2, 0, -2, 0.5)):
        add("pad2d", f"{top}_{bottom}_{left}_{right}", lambda x: nhwc(F.pad(nchw(x), (left, right, top, bottom), value=value)),
            {"top": top, "bottom": bottom, "left": left, "right": right, "value": value}, (2, 4, 5, 3))
    for size, shift, h, w in ((2, 0, 4, 6), (3, 1, 6, 3), (4, 3, 5, 7)):
        def split(x):
            x = torch.roll(F.pad(x, (0, 0, 0, -w % size, 0, -h % size)), (-shift, -shift), (1, 2))
            n, rows, columns, c = x.shape
            return x.reshape(n, rows // size, size, columns // size, size, c).transpose(2, 3).reshape(-1, size * size, c)

        add("split_windows", f"{size}_{shift}", split, {"size": size, "shift": shift}, (2, h, w, 3))


def matmul(file):
    cases = {"square": ((5, 5), (5, 5)), "odd": ((7, 13), (13, 9)), "row": ((1, 17), (17, 6)), "column": ((6, 17), (17, 1)),
             "inner_one": ((5, 1), (1, 7)), "wide": ((3, 40), (40, 35)), "batched": ((3, 4, 5), (3, 5, 6)),
             "broadcast_left": ((4, 5), (2, 3, 5, 6)), "broadcast_both": ((2, 1, 4, 5), (3, 5, 2))}
    for case, (a, b) in cases.items():
        file.seed(case)
        file.add(case, lambda a, b: a @ b, {"a": a, "b": b})
    for case, (a, b) in {"transposed": ((5, 7), (6, 7)), "transposed_batched": ((2, 2, 17, 3), (2, 2, 9, 3)),
                         "transposed_broadcast": ((3, 4, 5), (6, 5))}.items():
        file.seed(case)
        file.add(case, lambda a, b: a @ b.mT, {"a": a, "b": b}, {"transpose_b": True})


def linear(file):
    cases = {"plain": ((4, 7), 5, True), "no_bias": ((4, 7), 5, False), "tokens": ((2, 3, 11), 6, True),
             "images": ((2, 3, 4, 9), 17, True), "vector": ((13,), 3, True)}
    for case, (x, out_features, bias) in cases.items():
        file.seed(case)
        inputs = {"x": x, "weight": (out_features, x[-1])}
        if bias:
            inputs["bias"] = (out_features,)
        file.add(case, lambda x, weight, bias=None: F.linear(x, weight, bias), inputs)


def convolutions(file, cases):
    """case: x [N,H,W,I], weight [O,kh,kw,I/groups], with bias, options (pad: top, bottom, left, right)"""
    defaults = {"stride": [1, 1], "dilation": [1, 1], "pad": [0, 0, 0, 0], "groups": 1}
    for case, (x, weight, bias, options) in cases.items():
        options = dict(defaults, **options)
        top, bottom, left, right = options["pad"]

        def run(x, weight, bias=None):
            padded = F.pad(nchw(x), (left, right, top, bottom))
            return nhwc(F.conv2d(padded, nchw(weight), bias, options["stride"], 0, options["dilation"], options["groups"]))

        file.seed(case)
        inputs = {"x": x, "weight": weight}
        if bias:
            inputs["bias"] = (weight[0],)
        file.add(case, run, inputs, options)


def conv2d(file):
    same = {"pad": [1, 1, 1, 1]}
    convolutions(file, {
        "1x1": ((2, 5, 7, 13), (19, 1, 1, 13), True, {}),
        "1x1_stride2": ((2, 6, 7, 9), (10, 1, 1, 9), False, {"stride": [2, 2]}),
        "3x3": ((2, 9, 11, 5), (7, 3, 3, 5), True, same),
        "3x3_unpadded": ((1, 6, 5, 4), (3, 3, 3, 4), False, {}),
        "3x3_one_pixel": ((2, 1, 1, 6), (5, 3, 3, 6), True, same),
        "3x3_wide": ((1, 6, 7, 17), (6, 3, 3, 17), False, same),
        "3x3_stride2": ((2, 9, 8, 6), (5, 3, 3, 6), True, {"stride": [2, 2], **same}),
        "3x3_dilation2": ((2, 9, 7, 4), (6, 3, 3, 4), True, {"dilation": [2, 2], "pad": [2, 2, 2, 2]}),
        "3x3_dilation4": ((1, 7, 10, 3), (4, 3, 3, 3), False, {"dilation": [4, 4], "pad": [4, 4, 4, 4]}),
        "3x3_stride2_dilation2": ((1, 11, 10, 3), (4, 3, 3, 3), True,
                                  {"stride": [2, 2], "dilation": [2, 2], "pad": [2, 2, 2, 2]}),
        "7x7_stem": ((1, 15, 13, 3), (8, 7, 7, 3), True, {"stride": [2, 2], "pad": [3, 3, 3, 3]}),
        "2x2_stride2": ((2, 6, 7, 3), (4, 2, 2, 3), True, {"stride": [2, 2]}),
        "1x5_rectangle": ((2, 4, 9, 3), (5, 1, 5, 3), True, {"pad": [0, 0, 2, 2]}),
        "uneven": ((2, 7, 10, 3), (4, 3, 2, 3), True, {"stride": [2, 3], "dilation": [1, 2], "pad": [1, 0, 2, 1]}),
    })


def conv2d_grouped(file):
    same = {"pad": [1, 1, 1, 1]}
    convolutions(file, {
        "groups2": ((2, 6, 5, 8), (6, 3, 3, 4), True, {"groups": 2, **same}),
        "groups3_1x1": ((2, 4, 5, 9), (12, 1, 1, 3), False, {"groups": 3}),
        "depthwise": ((2, 7, 6, 11), (11, 3, 3, 1), True, {"groups": 11, **same}),
        "depthwise_7x7": ((1, 9, 8, 5), (5, 7, 7, 1), True, {"groups": 5, "pad": [3, 3, 3, 3]}),
        "depthwise_stride2": ((2, 7, 8, 6), (6, 3, 3, 1), False, {"groups": 6, "stride": [2, 2], **same}),
        "depthwise_dilation3": ((1, 9, 8, 4), (4, 3, 3, 1), True, {"groups": 4, "dilation": [3, 3], "pad": [3, 3, 3, 3]}),
        "depthwise_multiplier": ((2, 5, 6, 4), (8, 3, 3, 1), True, {"groups": 4, **same}),
    })


def pool2d(file):
    def sizes(kernel, stride, pad=(0, 0), **more):
        return dict({"kernel": kernel, "stride": stride, "pad": pad, "ceil_mode": False}, **more)

    windows = {
        "2x2": ((2, 6, 8, 3), sizes((2, 2), (2, 2))),
        "3x3_stem": ((2, 7, 9, 4), sizes((3, 3), (2, 2), (1, 1))),
        "3x3_dense": ((1, 5, 6, 3), sizes((3, 3), (1, 1), (1, 1))),
        "uneven": ((2, 7, 8, 2), sizes((3, 2), (2, 3), (1, 0))),
        "ceil": ((2, 6, 7, 3), sizes((3, 3), (2, 2), (0, 0), ceil_mode=True)),
        "ceil_padded": ((2, 7, 6, 3), sizes((3, 2), (2, 2), (1, 1), ceil_mode=True)),
    }
    for case, (x, options) in windows.items():
        arguments = (options["kernel"], options["stride"], options["pad"])
        file.seed("max" + case)
        file.add(f"max_{case}", lambda x: nhwc(F.max_pool2d(nchw(x), *arguments, ceil_mode=options["ceil_mode"])),
                 {"x": file.distinct(*x)}, dict(op="max", **options))
        for include in (True, False):
            name = f"avg_{case}_{'counting' if include else 'not_counting'}_padding"
            file.seed(name)
            file.add(name, lambda x: nhwc(F.avg_pool2d(nchw(x), *arguments, options["ceil_mode"], include)), {"x": x},
                     dict(op="avg", count_include_pad=include, **options))
    bins = ((7, 9, 1, 1), (7, 9, 2, 2), (7, 9, 3, 3), (7, 9, 6, 6), (12, 8, 6, 4), (5, 4, 3, 4), (2, 3, 6, 6))
    for h, w, out_h, out_w in bins:
        case = f"adaptive_{h}x{w}_to_{out_h}x{out_w}"
        file.seed(case)
        file.add(case, lambda x: nhwc(F.adaptive_avg_pool2d(nchw(x), (out_h, out_w))), {"x": (2, h, w, 3)},
                 {"op": "adaptive", "out": [out_h, out_w]})


def resize(file):
    pairs = [((3, 5), (6, 10)), ((3, 5), (12, 20)), ((4, 3), (7, 8)), ((2, 2), (9, 5)), ((7, 9), (4, 5)), ((8, 6), (4, 3)),
             ((5, 5), (5, 5)), ((1, 1), (4, 3)), ((1, 4), (3, 4)), ((6, 7), (1, 1)), ((5, 4), (5, 11)), ((16, 3), (5, 1))]
    for (h, w), (out_h, out_w) in pairs:
        base = f"{h}x{w}_to_{out_h}x{out_w}"
        for align in (False, True):
            case = f"bilinear_{base}_{'aligned' if align else 'centres'}"
            file.seed(case)
            file.add(case, lambda x: nhwc(F.interpolate(nchw(x), (out_h, out_w), mode="bilinear", align_corners=align)),
                     {"x": (2, h, w, 3)}, {"op": "bilinear", "out": [out_h, out_w], "align_corners": align})
        file.seed("nearest" + base)
        file.add(f"nearest_{base}", lambda x: nhwc(F.interpolate(nchw(x), (out_h, out_w), mode="nearest")), {"x": (2, h, w, 2)},
                 {"op": "nearest", "out": [out_h, out_w]})


def fuse_levels(file):
    cases = {
        "plain": ([(6, 8, 3), (3, 4, 5), (2, 2, 2)], "none"),
        "scalars": ([(6, 8, 3), (3, 4, 5), (2, 2, 2), (1, 1, 4)], "scalar"),
        "channels": ([(5, 7, 3), (3, 4, 17), (2, 3, 1)], "channel"),
        "mixed": ([(4, 4, 2), (2, 2, 3), (7, 5, 2)], "mixed"),
    }
    for name, (branches, kind) in cases.items():
        for align in (False, True):
            case = f"{name}_{'aligned' if align else 'centres'}"
            file.seed(case)
            h, w = branches[0][:2]
            constants = {}
            for i, (_, _, channels) in enumerate(branches):
                size = {"none": 0, "scalar": 1, "channel": channels, "mixed": (0, 1, channels)[i % 3]}[kind]
                if size:
                    constants[f"shift{i}"] = file.uniform(-1, 1, size)
                    constants[f"scale{i}"] = file.uniform(0.5, 3, size)

            def run(**x):
                parts = []
                for i in range(len(branches)):
                    part = nhwc(F.interpolate(nchw(x[f"x{i}"]), (h, w), mode="bilinear", align_corners=align))
                    if f"shift{i}" in constants:
                        part = (part - constants[f"shift{i}"]) * constants[f"scale{i}"]
                    parts.append(part)
                return torch.cat(parts, -1)

            file.add(case, run, {f"x{i}": (2, *size) for i, size in enumerate(branches)},
                     {"out": [h, w], "align_corners": align, "branches": len(branches)}, constants)


def batch_norm(file):
    defaults = {"eps": 1e-5, "momentum": 0.1, "training": True, "relu": False, "affine": True}
    cases = {
        "training": ((3, 4, 5, 6), {}),
        "training_relu": ((3, 4, 5, 6), {"relu": True}),
        "training_plain": ((2, 3, 3, 17), {"affine": False, "momentum": 0.3, "eps": 1e-3}),
        "training_pooled": ((5, 1, 1, 7), {"relu": True}),
        "training_rows": ((9, 8), {}),
        "eval": ((3, 4, 5, 6), {"training": False}),
        "eval_relu": ((2, 3, 5, 19), {"training": False, "relu": True}),
        "eval_plain": ((2, 3, 5, 6), {"training": False, "affine": False}),
    }
    for case, (x, options) in cases.items():
        options = dict(defaults, **options)
        channels = x[-1]
        file.seed(case)
        constants = {"running_mean": file.normal(channels), "running_var": file.uniform(0.25, 4, channels)}
        inputs = {"x": file.normal(*x) * 2 + 1}
        if options["affine"]:
            inputs.update(gamma=file.uniform(-2, 2, channels), beta=file.normal(channels))

        def run(x, gamma=None, beta=None):
            mean, var = constants["running_mean"].clone(), constants["running_var"].clone()
            y = F.batch_norm(x.movedim(-1, 1), mean, var, gamma, beta, options["training"], options["momentum"],
                             options["eps"]).movedim(1, -1)
            return F.relu(y) if options["relu"] else y, {"running_mean_after": mean, "running_var_after": var}

        file.add(case, run, inputs, options, constants)


def layer_and_group_norm(file):
    layers = (("tokens", (3, 5, 12), 1e-5, True), ("images", (2, 3, 4, 17), 1e-6, True), ("plain", (4, 9), 1e-5, False))
    for case, x, eps, affine in layers:
        file.seed(case)
        inputs = {"x": file.normal(*x) * 2 + 1}
        if affine:
            inputs.update(gamma=file.uniform(-2, 2, x[-1]), beta=file.normal(x[-1]))
        file.add(f"layer_{case}", lambda x, gamma=None, beta=None: F.layer_norm(x, x.shape[-1:], gamma, beta, eps), inputs,
                 {"op": "layer", "eps": eps})
    groupings = (("images", (2, 3, 4, 12), 3, True), ("one_group", (3, 5, 2, 6), 1, True),
                 ("each_channel", (2, 4, 3, 5), 5, True), ("plain", (2, 3, 4, 8), 4, False), ("rows", (4, 9, 6), 2, True))
    for case, x, groups, affine in groupings:
        file.seed("group" + case)
        inputs = {"x": file.normal(*x) * 2 + 1}
        if affine:
            inputs.update(gamma=file.uniform(-2, 2, x[-1]), beta=file.normal(x[-1]))

        def run(x, gamma=None, beta=None):
            return F.group_norm(x.movedim(-1, 1), groups, gamma, beta, 1e-5).movedim(1, -1)

        file.add(f"group_{case}", run, inputs, {"op": "group", "groups": groups, "eps": 1e-5})


def softmax(file):
    for op, function in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
        cases = (("rows", (5, 7), 0), ("images", (2, 3, 4, 21), -3), ("one_class", (4, 1), 0), ("large", (3, 6), 1000))
        for case, x, offset in cases:  # exp(1000) overflows: the largest must be taken off first
            file.seed(op + case)
            file.add(f"{op}_{case}", lambda x: function(x, -1), {"x": file.normal(*x) * 3 + offset}, {"op": op})


def cross_entropy(file):
    cases = {  # logits, labels' type, share ignored, ignore_index, weighted, reduction
        "mean_all": ((2, 4, 5, 7), torch.int32, 0.3, 255, False, "mean_all"),
        "mean_valid": ((2, 4, 5, 7), torch.int32, 0.3, 255, False, "mean_valid"),
        "sum": ((2, 4, 5, 7), torch.int32, 0.3, 255, False, "sum"),
        "bytes": ((2, 3, 5, 19), torch.uint8, 0.2, 255, False, "mean_all"),
        "weighted_mean_all": ((2, 4, 3, 6), torch.int32, 0.2, 255, True, "mean_all"),
        "weighted_mean_valid": ((2, 4, 3, 6), torch.uint8, 0.2, 255, True, "mean_valid"),
        "weighted_sum": ((2, 4, 3, 6), torch.int32, 0.2, 255, True, "sum"),
        "nothing_ignored": ((9, 11), torch.int32, 0, 255, False, "mean_all"),
        "everything_ignored": ((2, 3, 3, 4), torch.int32, 1, 255, False, "mean_all"),
        "ignore_class": ((2, 3, 4, 5), torch.int32, 0.3, 2, False, "mean_valid"),
        "ignore_negative": ((2, 3, 4, 5), torch.int32, 0.3, -1, False, "mean_all"),
        "confident": ((2, 3, 4, 5), torch.int32, 0.1, 255, False, "mean_valid"),
    }
    for case, (shape_, dtype, share, ignore, weighted, reduction) in cases.items():
        classes = shape_[-1]
        file.seed(case)
        labels = file.integers(0, classes, *shape_[:-1], dtype=torch.int64)
        labels[file.uniform(0, 1, *shape_[:-1]) < share] = ignore
        constants = {"labels": labels.to(dtype)}
        if weighted:
            constants["class_weights"] = file.uniform(0.25, 3, classes)
        logits = file.normal(*shape_) * (40 if case == "confident" else 2)

        def run(logits):
            kind = "mean" if reduction == "mean_valid" else "sum"
            loss = F.cross_entropy(logits.movedim(-1, 1), labels, constants.get("class_weights"), ignore_index=ignore,
                                   reduction=kind)
            return loss / labels.numel() if reduction == "mean_all" else loss

        file.add(case, run, {"logits": logits}, {"ignore_index": ignore, "reduction": reduction}, constants)


def dice_loss(file):
    """As segmentation_models_pytorch's DiceLoss("multiclass", from_logits=True, ignore_index=...) computes it."""
    cases = {  # logits, labels' type, share ignored, ignore_index, classes that labels name, smooth
        "plain": ((2, 4, 5, 7), torch.int32, 0.3, 255, 7, 0),
        "bytes": ((2, 3, 5, 19), torch.uint8, 0.2, 255, 19, 0),
        "absent": ((2, 4, 5, 9), torch.int32, 0.2, 255, 4, 0),
        "smooth": ((2, 4, 3, 6), torch.uint8, 0.2, 255, 4, 1.5),
        "nothing_ignored": ((9, 11), torch.int32, 0, 255, 11, 0),
        "everything_ignored": ((2, 3, 3, 4), torch.int32, 1, 255, 4, 0),
        "ignore_negative": ((2, 3, 4, 5), torch.int32, 0.3, -1, 5, 1),
        "confident": ((2, 3, 4, 5), torch.int32, 0.1, 255, 5, 0),
    }
    for case, (shape_, dtype, share, ignore, named, smooth) in cases.items():
        file.seed(case)
        labels = file.integers(0, named, *shape_[:-1], dtype=torch.int64)
        labels[file.uniform(0, 1, *shape_[:-1]) < share] = ignore
        logits = file.normal(*shape_) * (40 if case == "confident" else 2)

        def run(logits):
            valid = (labels != ignore).reshape(-1, 1)
            answer = torch.log_softmax(logits, -1).exp().reshape(-1, shape_[-1]) * valid
            truth = F.one_hot(labels.reshape(-1) * valid[:, 0], shape_[-1]) * valid
            overlap, whole = (answer * truth).sum(0), (answer + truth).sum(0)
            losses = 1 - (2 * overlap + smooth) / (whole + smooth).clamp_min(1e-7)
            return (losses * (truth.sum(0) > 0)).mean()

        file.add(case, run, {"logits": logits}, {"ignore_index": ignore, "smooth": smooth}, {"labels": labels.to(dtype)})


def hard_examples(file):
    """As mmsegmentation's OHEMPixelSampler(thresh, min_kept) selects; min_kept is that of a picture."""
    cases = {  # logits, labels' type, share ignored, ignore_index, threshold, min_kept
        "by_threshold": ((2, 4, 5, 7), torch.int32, 0.2, 255, 0.3, 2),
        "by_number": ((2, 4, 5, 7), torch.uint8, 0.2, 255, 0.01, 9),
        "more_than_there_are": ((2, 4, 5, 7), torch.int32, 0.2, 255, 0.1, 1000),
        "ignore_negative": ((2, 3, 4, 5), torch.int32, 0.3, -1, 0.2, 3),
        "everything_ignored": ((2, 3, 3, 4), torch.int32, 1, 255, 0.7, 2),
    }
    for case, (shape_, dtype, share, ignore, threshold, min_kept) in cases.items():
        file.seed(case)
        labels = file.integers(0, shape_[-1], *shape_[:-1], dtype=torch.int64)
        labels[file.uniform(0, 1, *shape_[:-1]) < share] = ignore

        def run(logits):
            valid = labels != ignore
            of_label = torch.softmax(logits.float(), -1).gather(-1, (labels * valid)[..., None])[..., 0]
            ordered = of_label[valid].sort().values
            least = ordered[min(min_kept * len(labels), len(ordered) - 1)].item() if len(ordered) else 0.0
            return torch.where(valid & (of_label < max(least, threshold)), labels, ignore).to(dtype)

        file.add(case, run, {"logits": file.normal(*shape_) * 2},
                 {"ignore_index": ignore, "threshold": threshold, "min_kept": min_kept}, {"labels": labels.to(dtype)}, False)


OPERATORS = {function.__name__: function for function in (
    binary, unary, reduce, shape, matmul, linear, conv2d, conv2d_grouped, pool2d, resize, fuse_levels, batch_norm,
    layer_and_group_norm, softmax, cross_entropy, dice_loss, hard_examples)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "..", "tests", "golden"))
    parser.add_argument("--shared", default="", help="the folder of real data, for " + ", ".join(WEIGHTS) + "; left out without it")
    everything = [*OPERATORS, *MODELS, *NETWORKS, *WEIGHTS, *PUBLISHED]
    parser.add_argument("names", nargs="*", help="all when empty: " + ", ".join(everything))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(everything)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.makedirs(arguments.out, exist_ok=True)
    for name, fill in OPERATORS.items():
        if not arguments.names or name in arguments.names:
            file = OperatorFile(name)
            fill(file)
            file.write(arguments.out)
    for name, options in MODELS.items():
        if not arguments.names or name in arguments.names:
            model_goldens(name, options, arguments.out)
    for name, options in NETWORKS.items():
        if not arguments.names or name in arguments.names:
            network_goldens(name, options, arguments.out)
    for name in WEIGHTS:
        if arguments.shared and (not arguments.names or name in arguments.names):
            picture_goldens(name, arguments.out, arguments.shared)
    installed = importlib.util.find_spec("timm") is not None
    for name in PUBLISHED:
        if name in arguments.names or (not arguments.names and installed):
            published_goldens(name, arguments.out)
    if not arguments.names and not installed:
        print("timm is not installed; left out: " + ", ".join(PUBLISHED))


if __name__ == "__main__":
    main()
