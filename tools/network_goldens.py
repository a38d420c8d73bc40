"""Goldens of networks whose weights need no file, for make_goldens.py: every value is a function of its tensor's name, on both sides.
So a network of any width costs a file of its scores and two numbers per gradient. tests/models/network_golden_test.cpp reads them."""

import json
import os

import numpy as np
import torch

import torch_models
from model_goldens import save

FILE_LIMIT = 200_000
BATCH, HEIGHT, WIDTH = 3, 72, 40  # strides give 18x10, 9x5, 5x3, 3x2: no level is an exact multiple of the next


def head(kind, channels, **more):
    return dict({"type": kind, "channels": channels, "dropout": 0.0}, **more)


def staged(kind, multiplier, **more):
    return dict({"type": kind, "multiplier": multiplier}, **more)


def mobilenet(multiplier, output_stride=32):
    return {"type": "mobilenet_v1", "multiplier": multiplier, "output_stride": output_stride}


AUXILIARY = head("fcn", 8, num_convs=1, concat_input=False, in_index=[2])
RESIZE_CONCAT = {"input_transform": "resize_concat"}
NETWORKS = {
    "psp_resnet18_d8": {"backbone": {"depth": 18, "width": 8, "output_stride": 8}, "decode_head": head("psp", 12),
                        "auxiliary_head": AUXILIARY},
    "aspp_resnet18_d16": {"backbone": {"depth": 18, "width": 8, "output_stride": 16}, "align_corners": True,
                          "decode_head": head("aspp", 12, dilations=[1, 2, 4])},
    "sep_aspp_mobilenet_d8": {"backbone": mobilenet(0.25, 8), "decode_head": head("sep_aspp", 16, dilations=[1, 2, 3], c1_channels=6)},
    "sep_aspp_without_c1": {"backbone": mobilenet(0.125, 16), "decode_head": head("sep_aspp", 8, dilations=[1, 4], c1_channels=0)},
    "upernet_mobilenet": {"backbone": mobilenet(0.25), "decode_head": head("uper", 12), "auxiliary_head": AUXILIARY},
    "fcn_hrnet_w18_small": {"backbone": {"type": "hrnet", "variant": "w18_small"},
                            "decode_head": head("fcn", 270, num_convs=1, kernel_size=1, concat_input=False, **RESIZE_CONCAT)},
    "upernet_swin": {"backbone": staged("swin", 0.0625), "decode_head": head("uper", 12), "auxiliary_head": AUXILIARY},
    "fcn_swin_base": {"backbone": staged("swin", 0.0625, variant="base"), "decode_head": head("fcn", 8, num_convs=1, **RESIZE_CONCAT)},
    "upernet_convnext": {"backbone": staged("convnext", 0.0625), "decode_head": head("uper", 12), "auxiliary_head": AUXILIARY},
    "upernet_twins_svt": {"backbone": staged("twins", 0.0625), "decode_head": head("uper", 12), "auxiliary_head": AUXILIARY},
    "fcn_twins_pcpvt": {"backbone": staged("twins", 0.0625, variant="pcpvt_small"), "decode_head": head("fcn", 8, num_convs=1, **RESIZE_CONCAT)},
    "fcn_resize_concat": {"backbone": {"depth": 18, "width": 4},
                          "decode_head": head("fcn", 8, num_convs=2, in_index=[1, 2, 3], **RESIZE_CONCAT)},
}


def hashed(name, shape):
    """Uniform in [0, 1): splitmix64 of the FNV-1a hash of the name and the element's index, 53 bits of it."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def initial_value(name, tensor):
    """He-uniform filters and products, norms away from the identity: weights that make every parameter matter."""
    u = hashed(name, tensor.shape)
    if tensor.dim() == 4 or (tensor.dim() == 2 and name.endswith("weight")):
        return (2 * u - 1) * (6 / tensor[0].numel()) ** 0.5
    if name.endswith("weight") or name.endswith("running_var"):
        return 0.5 + u
    return 0.2 * (u - 0.5)


def digest(name, value):
    """Norm, and the product with numbers that depend on the name."""
    value = value.double()
    return [value.norm().item(), (value * (hashed(name + "#", value.shape) - 0.5)).sum().item()]


def network_goldens(name, options, folder):
    """Scores in PyTorch's layout: "eval_logits", "logits", "aux_logits"; "loss"; "grad_digests" and "buffer_digests" [names, 2] after one training
    pass, in the order of the sorted names, "state_names" the metadata's. With scale equalizers everywhere: the same under "equalized."."""
    classes = 5
    model = torch_models.EncoderDecoder(options, classes).double()
    images = 4 * hashed("images", (BATCH, 3, HEIGHT, WIDTH)) - 2
    labels = (hashed("labels", (BATCH, HEIGHT, WIDTH)) * classes).long()
    labels[hashed("ignored", labels.shape) < 0.1] = 255
    tensors = {}
    for prefix in ("", "equalized."):
        model.load_state_dict({key: initial_value(key, value).float() if value.is_floating_point() else value
                               for key, value in model.state_dict().items()})
        model.zero_grad()
        if prefix:
            for site, fusion in model.decode_head.sites().items():
                path = f"decode_head.{site}.equalizers"
                fusion.constants = [(constant(f"{path}.{i}.mean", 0.3), constant(f"{path}.{i}.std", 0.3)) for i in range(8)]
        with torch.no_grad():
            tensors[prefix + "eval_logits"] = model.eval()(images)[0]
        loss, logits, aux_logits = model.train().loss(images, labels)
        loss.backward()
        tensors[prefix + "logits"], tensors[prefix + "loss"] = logits.detach(), loss.detach()
        if aux_logits is not None:
            tensors[prefix + "aux_logits"] = aux_logits.detach()
        grads = sorted((key, value.grad) for key, value in model.named_parameters())
        buffers = sorted((key, value) for key, value in model.named_buffers() if value.is_floating_point())
        tensors[prefix + "grad_digests"] = torch.tensor([digest(*entry) for entry in grads], dtype=torch.float64)
        tensors[prefix + "buffer_digests"] = torch.tensor([digest(*entry) for entry in buffers], dtype=torch.float64)
    metadata = {"model": json.dumps(options), "num_classes": str(classes), "state_names": " ".join(sorted(model.state_dict()))}
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save(os.path.join(folder, name + ".safetensors"), tensors, metadata, FILE_LIMIT)


def constant(name, low):
    return (low + 0.5 * hashed(name, (1,))).float().item()


PICTURE = "camvid/png_originals/val/0016E5_07959.png"
WEIGHTS = {"mobilenet_v1_picture": [("mobilenet_v1_0.25_224_imagenet_no_top", 0.25), ("mobilenet_v1_1.0_224_imagenet_no_pw13", 1.0)]}


def picture_goldens(name, folder, shared):
    """The ImageNet weights on a real picture: every 23rd pixel (in both directions) of each level, "<weights>.level<i>"; not of a level that
    needs a weight the file lacks."""
    from PIL import Image
    from safetensors.torch import load_file

    picture = np.asarray(Image.open(os.path.join(shared, PICTURE)).convert("RGB"))
    images = torch.from_numpy(picture.astype(np.float64) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()
    tensors = {}
    for weights, multiplier in WEIGHTS[name]:
        model = torch_models.MobileNetV1(multiplier).double().eval()
        report = model.load_state_dict(load_file(os.path.join(shared, "pretrained", weights + ".safetensors")), strict=False)
        missing = [key for key in report.missing_keys if not key.endswith("num_batches_tracked")]
        with torch.no_grad():
            for i, level in enumerate(model(images)[:-1] if missing else model(images)):
                tensors[f"{weights}.level{i}"] = level[0, :, ::23, ::23].contiguous()
    save(os.path.join(folder, name + ".safetensors"), tensors, {"picture": PICTURE}, FILE_LIMIT)
