"""Goldens of whole models, for make_goldens.py: weights, pictures, scores, gradients and a short training run."""

import json
import os
import struct
import zlib

import torch
from torch.nn import functional as F

import torch_models

FILE_LIMIT = 3_000_000


def save(path, tensors, metadata, limit):
    """Writes the safetensors format by hand: the library orders metadata by chance, and equal goldens should be equal files."""
    codes = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32", torch.int64: "I64", torch.uint8: "U8"}
    header, values, end = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        data = tensor.numpy().tobytes()
        header[name] = {"dtype": codes[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + len(data)]}
        values.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(values))
    size = os.path.getsize(path)
    assert size < limit, f"{path} has {size} bytes, more than {limit}"
    print(f"{path}: {len(metadata)} cases, {size} bytes")


def fcn(channels, **more):
    return dict({"type": "fcn", "channels": channels, "dropout": 0.0}, **more)


MODELS = {
    "upernet_resnet18": {
        "num_classes": 5, "align_corners": False, "backbone": {"depth": 18, "stem": "v1c", "width": 8, "output_stride": 32},
        "decode_head": {"type": "uper", "channels": 16, "dropout": 0.0, "pool_scales": [1, 2, 3, 6]},
        "auxiliary_head": fcn(8, num_convs=1, concat_input=False, in_index=[2]),
    },
    # The dilated stages, the classic stem, FCN with its concatenation, aligned corners.
    "fcn_resnet18_d8": {
        "num_classes": 4, "align_corners": True, "backbone": {"depth": 18, "stem": "v1", "width": 4, "output_stride": 8},
        "decode_head": fcn(6, num_convs=2, concat_input=True),
    },
    "fcn_resnet50_d16": {
        "num_classes": 4, "align_corners": False, "backbone": {"depth": 50, "stem": "v1c", "width": 4, "output_stride": 16},
        "decode_head": fcn(6, num_convs=1, concat_input=True, kernel_size=1),
    },
}
# (mean, std) of each branch of the two fusion sites: like those a fresh network has.
EQUALIZERS = {"ppm_fusion": [(0.8125, 0.96875), (0.40625, 0.59375), (0.390625, 0.4375), (0.421875, 0.40625), (0.375, 0.34375)],
              "fpn_fusion": [(0.40625, 0.578125), (0.4375, 0.375), (0.359375, 0.390625), (0.8125, 0.5)]}
STEPS = 10


def randomise(model, generator):
    """Weights that make every parameter matter: He-normal convolutions, norms away from identity, used running values."""
    with torch.no_grad():
        for name, value in list(model.named_parameters()) + list(model.named_buffers()):
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            spread = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if value.dim() == 4:
                fan_out = value.numel() / value.shape[1]
                value.copy_(noise * (0.2 if "conv_seg" in name else (2 / fan_out) ** 0.5))
            elif name.endswith("running_var") or name.endswith("weight"):
                value.copy_(0.5 + spread)
            else:
                value.copy_(0.1 * noise)
        for value in model.state_dict().values():  # float32 must hold them
            if value.is_floating_point():
                value.copy_(value.float())


def build(options, state, dtype, equalized=False):
    model = torch_models.EncoderDecoder(options).to(dtype)
    model.load_state_dict(state)
    if equalized:
        for name, site in model.decode_head.sites().items():
            site.constants = EQUALIZERS[name]
    return model.train()


def trajectory(model, images, labels):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model.loss(images, labels)[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def checked_trajectory(name, options, state, images, labels, equalized):
    """The float64 losses, after making sure that rounding does not decide them: float32 must follow well within the test's
    tolerance. (It does not in a narrow ResNet-50, whose many norms over few values amplify any rounding.)"""
    double = trajectory(build(options, state, torch.float64, equalized), images, labels)
    single = trajectory(build(options, state, torch.float32, equalized), images.float(), labels)
    spread = ((single - double).abs() / double).max().item()
    print(f"{name}{' equalized' * equalized}: losses {double[0]:.6f} to {double[-1]:.6f}; float32 differs by {spread:.1e}")
    assert spread < 2e-5
    return double


def model_goldens(name, options, folder):
    """PyTorch's layout and names throughout. "state.*": weights and buffers, float32; "images" [N,3,H,W]; "labels", some 255;
    "eval_logits" (running statistics); then of one training step: "logits", "aux_logits", "loss", "grad.*" (computed in
    float64, kept in float32), "after.*" (buffers changed); for UPerNet "losses": before each of ten SGD steps
    (lr 0.01, momentum 0.9, weight decay 5e-4). With scale equalizers: the same under "equalized." but for layer4's
    gradients, which would be a third of the file; the constants under "equalized.state.*"."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model = torch_models.EncoderDecoder(options).double()
    randomise(model, generator)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    height, width = 72, 56  # strides give 18x14, 9x7, 5x4, 3x2: no level is an exact multiple of the next
    images = torch.randn((4, 3, height, width), generator=generator, dtype=torch.float64).float().double()
    blocks = torch.randint(0, options["num_classes"], (4, 1, 9, 7), generator=generator).double()
    labels = F.interpolate(blocks, (height, width), mode="nearest")[:, 0].long()
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255

    tensors = {f"state.{key}": value.float() if value.is_floating_point() else value for key, value in state.items()}
    tensors.update(images=images.float(), labels=labels.to(torch.uint8))
    for prefix, equalized in (("", False), ("equalized.", True)) if "uper" in name else (("", False),):
        model = build(options, state, torch.float64, equalized).eval()
        with torch.no_grad():
            tensors[prefix + "eval_logits"] = model(images)[0]
        model.train()
        loss, logits, aux_logits = model.loss(images, labels)
        loss.backward()
        tensors[prefix + "logits"], tensors[prefix + "loss"] = logits.detach(), loss.detach()
        if aux_logits is not None:
            tensors[prefix + "aux_logits"] = aux_logits.detach()
        tensors.update({f"{prefix}grad.{key}": value.grad.float() for key, value in model.named_parameters()
                        if not (equalized and key.startswith("backbone.layer4."))})
        tensors.update({f"{prefix}after.{key}": value.clone() for key, value in model.named_buffers()})
        if "uper" in name:
            tensors[prefix + "losses"] = checked_trajectory(name, options, state, images, labels, equalized)
        if equalized:
            for site, constants in EQUALIZERS.items():
                for i, (mean, std) in enumerate(constants):
                    tensors[f"{prefix}state.decode_head.{site}.equalizers.{i}.mean"] = torch.tensor([mean])
                    tensors[f"{prefix}state.decode_head.{site}.equalizers.{i}.std"] = torch.tensor([std])
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save(os.path.join(folder, name + ".safetensors"), tensors, {"model": json.dumps(options)}, FILE_LIMIT)
