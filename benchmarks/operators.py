"""Single operators on one core: bench_ops beside PyTorch's counterparts.

    python3 benchmarks/operators.py --bench build/bench_ops --filter '^(unary|binary|sum)' --rounds 5 --out result.json

Each round takes case after case, bench_ops and at once PyTorch, so that slow minutes of the machine hit both; compared is processor time, which other
processes disturb less than the clock's (but caches and memory are shared: what only moves memory is certain on an idle machine alone). Everything is float32 and on
one thread; images are channels_last in PyTorch. Cases without a counterpart are named at the end. Of benchmarks that measure several threads (/all),
fusion sites in pieces and whatever PyTorch has no operator for, nothing is compared.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")  # of both sides; before torch is imported
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(1)
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}

UNARY = {
    "neg": torch.neg, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "square": torch.square,
    "reciprocal": torch.reciprocal, "abs": torch.abs, "sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "softplus": F.softplus, "relu": F.relu, "relu6": F.relu6, "gelu": F.gelu, "silu": F.silu, "hardswish": F.hardswish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1), "clamp": lambda x: x.clamp(-1, 0.5), "pow 3": lambda x: x.pow(3), "pow 0": lambda x: x.pow(0),
    "pow -1.5": lambda x: x.pow(-1.5), "add number": lambda x: 2.5 + x + 1, "sub number": lambda x: x - 2.5,
    "mul number": lambda x: -2.0 * (x * 1.5), "div number": lambda x: x / 4, "number sub": lambda x: 1 - x, "number div": lambda x: 1 / x,
}
POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal", "pow -1.5", "number div")  # what their arguments must be
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum}
MOVEMENT = {
    "cast/to float64": lambda x: x.double(), "cast/to bfloat16": lambda x: x.bfloat16(), "fill": lambda x: torch.full(x.shape, 1.5), "clone": torch.clone,
    "expand/pixels": lambda x: x.expand(8, 64, 64, 64).contiguous(), "slice/channels": lambda x: x[..., 16:48].contiguous(),
    "pad2d/one": lambda x: F.pad(x, (0, 0, 1, 1, 1, 1)), "permute/to channels first": lambda x: x.permute(0, 3, 1, 2).contiguous(),
    "permute/to channels last": lambda x: x.permute(0, 2, 3, 1).contiguous(), "permute/to heads": lambda x: x.permute(0, 2, 1, 3).contiguous(),
    "argmax/classes": lambda x: x.argmax(3), "max/classes": lambda x: x.max(3), "mean/pixels": lambda x: x.mean((1, 2)), "var/channels": lambda x: x.var(3),
}
BATCHES = {"3x3 dilation 4 512->512 @32": 2, "3x3 dilation 12 512->128 @32": 2, "3x3 dilation 24 512->128 @32": 2,
           "3x3 dilation 36 512->128 @64": 1, "1x1 512->150 @64": 2, "1x1 270->270 @64": 2}  # of convolutions; the others have 8


def extents(text):
    """The numbers of '[8, 64, 64, 96]', or of the last bracket of a longer text."""
    return [int(number) for number in re.findall(r"\d+", text[text.rindex("["):])]


def image(n, h, w, c):
    return torch.randn(n, c, h, w).to(memory_format=torch.channels_last)


def inference(function):
    def run():
        with torch.no_grad():
            return function()
    return run


def backward(y, inputs):
    grad = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, grad, retain_graph=True)


def unary(name):
    direction, operator = name.split("/")
    x = torch.rand(8, 64, 64, 64) * 4 + 0.3 if operator in POSITIVE else torch.rand(8, 64, 64, 64) * 6 - 3
    if direction == "forward":
        return lambda: UNARY[operator](x)
    y, grad = UNARY[operator](x.requires_grad_()), torch.randn_like(x)

    def run():  # as there: into the leaf, which a gradient that passes through is copied to
        x.grad = None
        y.backward(grad, retain_graph=True)
    return run


def binary(name):
    operator, case = name.split(" ")[0].split("/")
    a = torch.rand(8, 64, 64, 64) + 0.5
    b = torch.rand({"same": (8, 64, 64, 64), "channels": (64,), "pixels": (8, 64, 64, 1), "number": ()}[case]) + 0.5
    return lambda: BINARY[operator](a, b)


def movement(name):
    x = torch.rand(extents(name)) + 0.5
    operator = MOVEMENT[name[:name.rindex("[")].strip()]
    return lambda: operator(x)


def add_in_place(name):
    x, total = torch.rand(extents(name)), torch.rand(extents(name))
    return lambda: total.add_(x, alpha=1e-3)


def sum_over(name):
    shape, axes = name.split(" over ")
    x = torch.randn(extents(shape))
    return (lambda: x.sum()) if axes == "all" else (lambda: x.sum([int(axis) for axis in axes.split()]))


def matmul(name):
    a, b = (torch.randn(extents(operand)) for operand in name.split(" x "))
    return lambda: a @ b


def norm(module, x, direction):
    if direction == "backward":
        x.requires_grad_()
        return backward(module(x), [x, *module.parameters()])
    return inference(lambda: module(x))


def batch_norm(name):
    direction, case = name.split("/")
    x = image(*extents(case))
    layer = torch.nn.BatchNorm2d(x.shape[1]).train(direction != "eval")
    module = torch.nn.Sequential(layer, torch.nn.ReLU())
    return norm(module, x, direction)


def group_norm(name):
    direction, case = name.split("/")
    x = image(*extents(case))
    return norm(torch.nn.GroupNorm(32, x.shape[1]), x, direction)


def layer_norm(name):
    direction, case = name.split("/")
    x = torch.randn(extents(case))
    return norm(torch.nn.LayerNorm(x.shape[-1]), x, direction)


def softmax(function):
    def counterpart(name):
        x = torch.randn(extents(name))
        return lambda: function(x, -1)
    return counterpart


def cross_entropy(name):
    direction, case = name.split("/")
    n, h, w, classes = extents(case)
    logits, labels = image(n, h, w, classes), torch.randint(0, classes, (n, h, w))
    if direction == "loss":
        return lambda: F.cross_entropy(logits, labels)
    logits.requires_grad_()
    return lambda: torch.autograd.grad(F.cross_entropy(logits, labels), [logits])


def dropout(name):
    x = torch.randn(8, 64, 64, 128)
    maps = image(8, 64, 64, 128)
    return (lambda: F.dropout(x, 0.1)) if name == "elements" else (lambda: F.dropout2d(maps, 0.1))


def bilinear(direction):
    def counterpart(name):
        side, out, channels = map(int, name.split("/"))
        x = image(8, side, side, channels)

        def resize():
            return F.interpolate(x, size=(out, out), mode="bilinear", align_corners=False)
        if direction == "forward":
            return resize
        x.requires_grad_()
        return backward(resize(), [x])
    return counterpart


def max_pool(_):
    x = image(8, 128, 128, 64)
    return lambda: F.max_pool2d(x, 3, 2, 1)


def max_pool_with_gradient(_):
    x, grad = image(8, 128, 128, 64).requires_grad_(), image(8, 64, 64, 64)
    return lambda: torch.autograd.grad(F.max_pool2d(x, 3, 2, 1), [x], grad)


def adaptive_pool(direction):
    def counterpart(name):
        x = image(8, 32, 32, 512)
        if direction == "forward":
            return lambda: F.adaptive_avg_pool2d(x, int(name))
        x.requires_grad_()
        return backward(F.adaptive_avg_pool2d(x, int(name)), [x])
    return counterpart


def concat(_):
    parts = [image(8, 64, 64, 128) for _ in range(4)]
    return lambda: torch.cat(parts, 1)


def convolution(name):
    case, direction, threads = name.rsplit("/", 2)
    if threads != "1":
        return None
    words = re.match(r"(?:(stem|depthwise|patches) )?(\d)x\d(?:/(\d))?(?: dilation (\d+))?(?: (\d+) groups)? (\d+)(?:->(\d+))? @(\d+)$", case)
    kind, size, stride, dilation, groups, channels, out, side = words.groups()
    size, stride, dilation, channels, side = int(size), int(stride or 1), int(dilation or 1), int(channels), int(side)
    layer = torch.nn.Conv2d(channels, int(out or channels), size, stride, 0 if kind == "patches" else dilation * (size // 2), dilation,
                            channels if kind == "depthwise" else int(groups or 1), bias=False).to(memory_format=torch.channels_last)
    x = image(BATCHES.get(case, 8), side, side, channels)
    if direction == "forward":
        return inference(lambda: layer(x))
    x.requires_grad_()
    return backward(layer(x), [x] if direction == "backward_input" else [layer.weight])


COUNTERPARTS = {
    "unary": unary, "binary": binary, "add_": add_in_place, "sum": sum_over, "matmul": matmul, "batch_norm+relu": batch_norm, "group_norm": group_norm,
    "layer_norm": layer_norm, "softmax": softmax(F.softmax), "log_softmax": softmax(F.log_softmax), "cross_entropy": cross_entropy, "dropout": dropout,
    "bilinear_forward": bilinear("forward"), "bilinear_backward": bilinear("backward"), "max_pool_forward": max_pool,
    "max_pool_forward_backward": max_pool_with_gradient, "adaptive_pool_forward": adaptive_pool("forward"),
    "adaptive_pool_backward": adaptive_pool("backward"), "concat_channels": concat, "conv2d": convolution,
}


def counterpart(name):
    """PyTorch's side of a benchmark as a function without arguments, or None."""
    family, _, rest = re.match(r"([\w+]+)(/|)(.*)", name).groups()
    if name[:name.find("[")].strip() in MOVEMENT:
        return movement(name)
    return COUNTERPARTS[family](rest) if family in COUNTERPARTS else None


def measure_torch(function, seconds):
    function()
    function()
    times = []
    end = time.process_time() + seconds
    while time.process_time() < end or len(times) < 3:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def run_bench(arguments, *options):
    command = [arguments.bench, *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0 or not result.stdout:
        sys.exit(f"{' '.join(command)} failed with status {result.returncode}:\n{result.stderr}")
    return result.stdout


def measure_equiscale(arguments, name):
    exactly = "^" + re.sub(r"([\[().+*?^$|{\\])", r"\\\1", name) + "$"
    output = run_bench(arguments, f"--benchmark_filter={exactly}", "--benchmark_format=json", f"--benchmark_min_time={arguments.seconds}",
                       "--benchmark_min_warmup_time=0.001")  # as there: the first calls, whose memory is new to the process, are not counted
    entry = json.loads(output)["benchmarks"][0]
    return entry["cpu_time"] * SECONDS[entry["time_unit"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="path of bench_ops")
    parser.add_argument("--filter", default=".", help="regular expression for names of benchmarks; a leading - excludes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each case, side and round")
    parser.add_argument("--out", help="file for all numbers")
    arguments = parser.parse_args()
    if not os.access(arguments.bench, os.X_OK):
        parser.error(f"there is no program {arguments.bench}: build the project with -DEQ_BUILD_BENCHMARKS=ON first")

    ours, theirs, missing = {}, {}, []
    titles = run_bench(arguments, "--benchmark_list_tests", f"--benchmark_filter={arguments.filter}").splitlines()
    for round_index in range(arguments.rounds):
        for title in titles:
            name = title.removesuffix("/real_time")
            function = counterpart(name)
            if function is None:
                if round_index == 0:
                    missing.append(name)
                continue
            ours.setdefault(name, []).append(measure_equiscale(arguments, title))
            theirs.setdefault(name, []).append(measure_torch(function, arguments.seconds))
        print(f"round {round_index + 1}/{arguments.rounds}", file=sys.stderr)

    rows = []
    for name in ours:
        ratio = statistics.median(b / a for a, b in zip(ours[name], theirs[name]))
        rows.append({"name": name, "ratio": ratio, "equiscale": statistics.median(ours[name]), "pytorch": statistics.median(theirs[name])})
    rows.sort(key=lambda row: row["ratio"])
    print(f"One core, {arguments.rounds} rounds, PyTorch {torch.__version__}; ratio: PyTorch / equiscale, above 1 we are faster")
    print(f"{'ratio':>6}{'equiscale':>12}{'PyTorch':>12}  operator")
    for row in rows:
        print(f"{row['ratio']:6.2f}{row['equiscale'] * 1e3:9.3f} ms{row['pytorch'] * 1e3:9.3f} ms  {row['name']}")
    if rows:
        ratios = [row["ratio"] for row in rows]
        print(f"{len(rows)} cases: median ratio {statistics.median(ratios):.2f}, geometric mean {statistics.geometric_mean(ratios):.2f}, "
              f"{sum(ratio < 0.95 for ratio in ratios)} below 0.95")
    if missing:
        print("without counterpart: " + ", ".join(missing))
    if arguments.out:
        settings = {"filter": arguments.filter, "rounds": arguments.rounds, "seconds": arguments.seconds, "pytorch": torch.__version__}
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "rows": rows, "samples": {name: {"equiscale": ours[name], "pytorch": theirs[name]} for name in ours}}, file, indent=2)


if __name__ == "__main__":
    main()
