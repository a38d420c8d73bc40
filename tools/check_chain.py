"""The whole way of a network that was trained in PyTorch: torch.save, `equiscale convert`, `equiscale export`, ONNX Runtime; are the scores still PyTorch's?

    python tools/check_chain.py build/equiscale     # needs torch, onnxruntime, numpy

The networks are those of network_goldens.py, in mmsegmentation's structure, saved as a training program saves them, in both of PyTorch's formats. Prints the
largest difference of a score, scaled by the largest score; exit status 1 where one is above 1e-4.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
import torch

import torch_models
from network_goldens import NETWORKS, initial_value

LIMIT = 1e-4
CLASSES = ["sky", "road", "car", "tree", "ground"]
SIZE = (72, 40)


def network(options):
    net = torch_models.EncoderDecoder(options, len(CLASSES)).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                value.copy_(initial_value(name, value))
    return net


def difference(equiscale, options, folder, old_format):
    net = network(options)
    config, weights, ours, model = (str(folder / name) for name in ("net.json", "net.pth", "net.safetensors", "net.onnx"))
    state = {"module." + name: value for name, value in net.state_dict().items()}
    torch.save({"meta": {"config": "model = ..."}, "state_dict": state, "optimizer": {}}, weights, _use_new_zipfile_serialization=not old_format)
    pathlib.Path(config).write_text(json.dumps({"data": {"type": "folders", "root": "none", "classes": CLASSES}, "model": options}))
    subprocess.run([equiscale, "convert", config, weights, "--out", ours], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([equiscale, "export", ours, "--out", model, "--size", *map(str, SIZE), "--normalized"], check=True, stdout=subprocess.DEVNULL)
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net.predict(images).numpy()
    (scores,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": images.numpy()})
    return float(np.abs(scores - expected).max() / max(1, np.abs(expected).max()))


def main():
    equiscale = str(pathlib.Path(sys.argv[1]).resolve())
    wrong = 0
    for i, (name, options) in enumerate(NETWORKS.items()):
        with tempfile.TemporaryDirectory() as folder:
            found = difference(equiscale, options, pathlib.Path(folder), i % 2 == 1)
        wrong += not found <= LIMIT
        print(f"{name:24} {found:.1e}{'' if found <= LIMIT else '  WRONG'}")
    print(f"{len(NETWORKS) - wrong} of {len(NETWORKS)} have PyTorch's scores")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
