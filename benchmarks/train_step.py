"""Training step and inference of one recipe's network: equiscale beside PyTorch's better memory layout.

    python3 benchmarks/train_step.py --equiscale build/equiscale --config recipes/camvid_upernet_resnet18.json \
        --size 256 --batch 8 --threads 2 --rounds 5 --json result.json

PyTorch runs here only: nothing of the project needs it. Each round starts three processes one after the other (equiscale,
PyTorch channels_last, PyTorch contiguous), so that no side keeps memory the other wants and slow minutes of the machine hit
all of them. A process does untimed steps first; the medians over all rounds are compared. The network, the optimizer and
the loss are the recipe's, the pictures are noise, everything is float32. Without --equiscale only PyTorch is measured.

On a GPU (--device cuda) PyTorch runs eagerly in channels_last only, with cudnn.benchmark, and in float32 without TF32, as equiscale does;
--precision bf16 is autocast there and train.precision=bf16 here; inference is in float32 on both sides. Both sides copy the pictures from the host in each step: equiscale
from pageable memory, PyTorch from page-locked memory, as its loaders give them. Memory is that of tensors on the GPU, of training.

Peak memory on the CPU is the high-water mark of resident memory (VmHWM) of the whole process; what PyTorch has resident once it is
imported, before any model, is printed beside it.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from recipes import classes_of, read_recipe  # noqa: E402 (torch is imported in the PyTorch processes only)

LAYOUTS = ("channels_last", "contiguous")
WARM_UP = 2


def process_memory(key):
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


# --- the PyTorch process -------------------------------------------------------------------------------------------------


def build_optimizer(torch, model, section):
    """The recipe's optimizer. Of its parameter groups only the common one is needed: other decay for norms."""
    norm_decay = next((group.get("decay_mult", 1.0) for group in section.get("groups", []) if group["pattern"] == "norm"), 1.0)
    decay = section.get("weight_decay", 5e-4)
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    groups = [{"params": [p for p in model.parameters() if id(p) not in norms], "weight_decay": decay},
              {"params": [p for p in model.parameters() if id(p) in norms], "weight_decay": decay * norm_decay}]
    if section.get("type", "sgd") == "adamw":
        return torch.optim.AdamW(groups, lr=section.get("lr", 0.01))
    return torch.optim.SGD(groups, lr=section.get("lr", 0.01), momentum=section.get("momentum", 0.9))


def insert_equalizers(model, section):
    """Identity constants cost what measured ones do."""
    from torch_heads import Fusion

    if section.get("mode", "off") == "explicit":
        for site in vars(model.decode_head).values():
            if isinstance(site, Fusion):
                site.constants = itertools.repeat((0.0, 1.0))  # whatever the number of branches


def run_torch(arguments):
    import torch
    import torch_models

    imported = process_memory("VmRSS")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    recipe = read_recipe(arguments.config)
    classes = arguments.classes
    layout = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
    on_gpu = arguments.device != "cpu"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    autocast = contextlib.nullcontext
    if arguments.precision == "bf16":
        autocast = lambda: torch.autocast("cuda", dtype=torch.bfloat16)  # noqa: E731
    model = torch_models.EncoderDecoder(recipe["model"], classes).to(arguments.device, memory_format=layout).train()
    insert_equalizers(model, recipe.get("equalizer", {}))
    optimizer = build_optimizer(torch, model, recipe.get("optimizer", {}))
    auxiliary_weight = recipe.get("train", {}).get("aux_weight", 0.4)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size).contiguous(memory_format=layout)
    squares = torch.arange(arguments.size) // 16  # of labels, as `equiscale bench train` has them
    labels = (torch.arange(arguments.batch)[:, None, None] + squares[:, None] + squares) % classes
    if on_gpu:
        images, labels = images.pin_memory(), labels.pin_memory()

    def on_device(tensor):
        return tensor.to(arguments.device, non_blocking=True) if on_gpu else tensor

    def train_step():
        optimizer.zero_grad()
        with autocast():
            loss = model.loss(on_device(images), on_device(labels), auxiliary_weight)[0]
        loss.backward()
        optimizer.step()
        return loss.item()

    def inference():
        with torch.inference_mode():
            model.predict(on_device(images))
        if on_gpu:
            torch.cuda.synchronize()

    def timed(function):
        seconds = []
        for i in range(WARM_UP + arguments.steps):
            start = time.perf_counter()
            function()
            if i >= WARM_UP:
                seconds.append(time.perf_counter() - start)
        return seconds

    result = {} if arguments.no_train else {"train_step_seconds": timed(train_step)}
    if on_gpu:
        result["peak_tensor_bytes"] = torch.cuda.max_memory_allocated()
    model.eval()
    result["inference_seconds"] = timed(inference)
    result.update(peak_rss_bytes=process_memory("VmHWM"), imported_rss_bytes=imported, version=torch.__version__,
                  parameters=sum(p.numel() for p in model.parameters()), batch_size=arguments.batch, size=arguments.size)
    print(json.dumps(result))


# --- the comparing process -----------------------------------------------------------------------------------------------


def run_process(command, what):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{what} failed with status {result.returncode}:\n  {' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def measure_equiscale(arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        command = [arguments.equiscale, "bench", "train", arguments.config, "--json", path, "--steps", str(arguments.steps),
                   "--size", str(arguments.size), "--batch", str(arguments.batch), "--classes", str(arguments.classes),
                   "--threads", str(arguments.threads)] + (["--no-train"] if arguments.no_train else [])
        if arguments.device != "cpu":
            command += ["--device", arguments.device, "--set", f"train.precision={arguments.precision}"]
        run_process(command, "equiscale bench train")
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
    asked = {"size": arguments.size, "batch_size": arguments.batch, "threads": arguments.threads}
    for key, value in asked.items():
        if result[key] != value:
            sys.exit(f"equiscale measured {key} {result[key]}, not {value}: the comparison would be of unlike things")
    return result


def measure_torch(arguments, layout):
    command = [arguments.python, os.path.abspath(__file__), "--layout", layout, "--config", arguments.config]
    for key in ("size", "batch", "classes", "threads", "steps", "device", "precision"):
        command += [f"--{key}", str(getattr(arguments, key))]
    if arguments.no_train:
        command.append("--no-train")
    return json.loads(run_process(command, "PyTorch").splitlines()[-1])


def duration(seconds, device):
    return f"{seconds:.3f} s" if device == "cpu" else f"{seconds * 1000:.1f} ms"


def pooled(results):
    """All rounds of one side together."""
    return {
        "train_step_seconds": [s for r in results for s in r.get("train_step_seconds", [])],
        "inference_seconds": [s for r in results for s in r["inference_seconds"]],
        "peak_rss_bytes": max(r["peak_rss_bytes"] for r in results),
        "peak_tensor_bytes": max(r.get("peak_tensor_bytes", 0) for r in results),
    }


def compare(arguments):
    layouts = LAYOUTS if arguments.device == "cpu" else LAYOUTS[:1]
    memory_key = "peak_rss_bytes" if arguments.device == "cpu" else "peak_tensor_bytes"
    timed = (("train_step_seconds", "training step"), ("inference_seconds", "inference"))[1 if arguments.no_train else 0:]
    sides = {layout: [] for layout in layouts}
    if arguments.equiscale:
        sides = {"equiscale": [], **sides}
    for round_index in range(arguments.rounds):
        for side, results in sides.items():
            results.append(measure_equiscale(arguments) if side == "equiscale" else measure_torch(arguments, side))
            median = statistics.median(results[-1][timed[0][0]])
            print(f"round {round_index + 1}/{arguments.rounds}  {side:13}  {timed[0][1]} {duration(median, arguments.device)}", file=sys.stderr)
    pools = {side: pooled(results) for side, results in sides.items()}
    version, imported = sides[LAYOUTS[0]][0]["version"], sides[LAYOUTS[0]][0]["imported_rss_bytes"]

    equalizer = read_recipe(arguments.config).get("equalizer", {}).get("mode", "off")
    print(f"{os.path.basename(arguments.config)} (equalizers {equalizer}), {arguments.size} x {arguments.size}, batch {arguments.batch}, "
          f"{arguments.threads} threads, {'' if arguments.device == 'cpu' else arguments.device + ', '}{arguments.precision}; PyTorch {version}")
    print(f"medians (best) of {len(pools[LAYOUTS[0]]['inference_seconds'])} steps in {arguments.rounds} processes a side; "
          "ratio: PyTorch / equiscale, above 1 we are faster or smaller")
    summary = {}

    def spread(median, seconds):
        best = duration(min(seconds), arguments.device).split()[0]
        return f"{duration(median, arguments.device)} ({best})"

    print(f"{'':16}{'equiscale':>18}{'PyTorch':>18}  {'layout':14}{'ratio':>6}")
    for key, title in timed:
        layout = min(layouts, key=lambda side: statistics.median(pools[side][key]))
        theirs = statistics.median(pools[layout][key])
        summary[key] = {"pytorch": theirs, "layout": layout}
        ours_text, ratio_text = "-", "-"
        if arguments.equiscale:
            ours = statistics.median(pools["equiscale"][key])
            summary[key].update(equiscale=ours, ratio=theirs / ours)
            ours_text, ratio_text = spread(ours, pools["equiscale"][key]), f"{theirs / ours:.2f}"
        theirs_text = spread(theirs, pools[layout][key])
        print(f"{title:16}{ours_text:>18}{theirs_text:>18}  {layout:14}{ratio_text:>6}")
    layout = min(layouts, key=lambda side: pools[side][memory_key])
    theirs = pools[layout][memory_key]
    summary[memory_key] = {"pytorch": theirs, "layout": layout, "pytorch_imported": imported}
    ours_text, ratio_text = "-", "-"
    if arguments.equiscale:
        ours = pools["equiscale"][memory_key]
        summary[memory_key].update(equiscale=ours, ratio=theirs / ours)
        ours_text, ratio_text = f"{ours / 1e9:.2f} GB", f"{theirs / ours:.2f}"
    print(f"{'peak memory':16}{ours_text:>18}{f'{theirs / 1e9:.2f} GB':>18}  {layout:14}{ratio_text:>6}"
          f"   (PyTorch imported: {imported / 1e9:.2f} GB)")
    if arguments.json:
        settings = {key: getattr(arguments, key) for key in ("size", "batch", "threads", "rounds", "steps", "device", "precision")}
        settings.update(config=os.path.basename(arguments.config), pytorch=version)
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "summary": summary, "sides": pools}, file, indent=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equiscale", help="path of the command; without it only PyTorch is measured")
    parser.add_argument("--config", required=True, help="recipe whose network is measured")
    parser.add_argument("--size", type=int, default=256, help="height and width of the pictures")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="processes per side")
    parser.add_argument("--steps", type=int, default=4, help="timed steps per process")
    parser.add_argument("--classes", type=int, help="where the recipe does not tell")
    parser.add_argument("--no-train", action="store_true", help="time inference only")
    parser.add_argument("--json", help="file for all numbers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="bf16: on a GPU only")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch")
    parser.add_argument("--layout", choices=LAYOUTS, help=argparse.SUPPRESS)  # marks the PyTorch process
    arguments = parser.parse_args()
    arguments.classes = arguments.classes or classes_of(read_recipe(arguments.config))
    if arguments.equiscale and not os.access(arguments.equiscale, os.X_OK):
        parser.error(f"there is no program {arguments.equiscale}: build the project first")
    if not arguments.classes:
        parser.error("the recipe does not tell the number of classes: give --classes N")
    if arguments.precision == "bf16" and arguments.device == "cpu":
        parser.error("bf16 needs --device cuda")
    run_torch(arguments) if arguments.layout else compare(arguments)


if __name__ == "__main__":
    main()
