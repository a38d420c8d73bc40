"""Goldens of timm's and torchvision's own networks, for make_goldens.py: what a file of weights under their names must give. Weights are
functions of their names, as in network_goldens.py. tests/models/weight_names_test.cpp reads the files."""

import functools
import importlib.util
import json
import os
import re
import sys
import types
from unittest import mock

import torch
from torch.nn import functional as F

from model_goldens import save
from network_goldens import FILE_LIMIT, hashed, initial_value

CHANNELS = [6, 12, 24, 48]  # a sixteenth of the published ones
HEADS = [3, 6, 12, 24]
SWIN_BLOCKS, CONVNEXT_BLOCKS = [2, 2, 6, 2], [3, 3, 9, 3]
STEP = 5  # prime to windows and strides

# Maps from 64 x 72 to 8 x 9: larger than windows, and of no whole number of them.
ANY_SIZE = (256, 288)
# timm pads a map to whole windows after it has shifted it, torchvision and mmsegmentation before: another network unless windows fit, as they do
# here, from 112 x 112 to 14 x 14.
WINDOWS_FIT = (448, 448)


@functools.cache
def published_libraries():
    """timm, and torchvision's definitions of networks without its compiled operators, which fit one version of PyTorch only, and without its
    data sets, which want more packages."""
    folder = os.path.dirname(importlib.util.find_spec("torchvision").origin)
    for name in ("torchvision", "torchvision.models", "torchvision.ops"):
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(folder, *name.split(".")[1:])]
        sys.modules[name] = package
    sys.modules["torchvision.datasets"] = mock.MagicMock()
    import timm
    from torchvision.models import convnext, swin_transformer

    return timm.models, types.SimpleNamespace(convnext=convnext, swin_transformer=swin_transformer)


def timm_levels(model, x):
    return model.forward_intermediates(x, indices=4, intermediates_only=True)


def torchvision_levels(model, x):
    levels = []
    for layer in model.features:
        levels.append(x := layer(x))
    return levels[1::2]


def torchvision_swin_levels(model, x):
    return [level.permute(0, 3, 1, 2) for level in torchvision_levels(model, x)]


def timm_swin(timm, _):
    return timm.swin_transformer.SwinTransformer(WINDOWS_FIT, embed_dim=CHANNELS[0], depths=SWIN_BLOCKS, num_heads=HEADS, num_classes=2)


def timm_convnext(timm, _):
    return timm.convnext.ConvNeXt(depths=CONVNEXT_BLOCKS, dims=CHANNELS, num_classes=2)


def timm_resnet(timm, _):
    return timm.resnet.ResNet(timm.resnet.BasicBlock, [2, 2, 2, 2], channels=[8, 16, 32, 64], stem_type="deep", stem_width=4, num_classes=2)


def torchvision_swin(_, torchvision):
    return torchvision.swin_transformer.SwinTransformer([4, 4], CHANNELS[0], SWIN_BLOCKS, HEADS, [7, 7], num_classes=2)


def torchvision_convnext(_, torchvision):
    blocks = [torchvision.convnext.CNBlockConfig(*of_stage) for of_stage in zip(CHANNELS, [*CHANNELS[1:], None], CONVNEXT_BLOCKS)]
    return torchvision.convnext.ConvNeXt(blocks, num_classes=2)


# timm's names -> those of the repository that the network was published with. timm's own converter proves them: it must give timm's whole state.
ORIGINAL = {
    "original_swin": ((r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample"), (r"head\.fc", "head")),
    "original_convnext": (
        (r"stem", "downsample_layers.0"), (r"stages\.(\d)\.downsample", r"downsample_layers.\1"), (r"\.blocks\.", "."), (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"), (r"head\.norm", "norm"), (r"head\.fc", "head")),
}
PUBLISHED = {  # how the network is built, what gives its levels, the picture's size, and the epsilon of a level's fresh norm
    "timm_swin": (timm_swin, timm_levels, WINDOWS_FIT, 1e-5),
    "timm_convnext": (timm_convnext, timm_levels, ANY_SIZE, 1e-6),
    "timm_resnet": (timm_resnet, timm_levels, ANY_SIZE, None),
    "torchvision_swin": (torchvision_swin, torchvision_swin_levels, ANY_SIZE, 1e-5),
    "torchvision_convnext": (torchvision_convnext, torchvision_levels, ANY_SIZE, 1e-6),
    "original_swin": (timm_swin, timm_levels, WINDOWS_FIT, 1e-5),
    "original_convnext": (timm_convnext, timm_levels, ANY_SIZE, 1e-6),
}


def renamed(name, rules):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def published_goldens(name, folder):
    """Every STEP-th pixel (in both directions) of each level in evaluation, behind a fresh layer norm, "level<i>" [H, W, C]. The metadata has the picture's
    "height" and "width" and the network's "state": the names and named of its file."""
    timm, torchvision = published_libraries()
    build, levels_of, (height, width), eps = PUBLISHED[name]
    model = build(timm, torchvision).double().eval()
    named = {renamed(key, ORIGINAL.get(name, ())): value for key, value in model.state_dict().items()}
    state = {key: initial_value(key, value).float() if value.is_floating_point() else value for key, value in named.items()}
    if name in ORIGINAL:
        state = sys.modules[type(model).__module__].checkpoint_filter_fn(state, model)
    model.load_state_dict(state)
    images = 4 * hashed("images", (1, 3, height, width)) - 2
    tensors = {}
    with torch.no_grad():
        for i, level in enumerate(levels_of(model, images)):
            level = level[0].permute(1, 2, 0)
            level = F.layer_norm(level, level.shape[-1:], eps=eps) if eps else level
            tensors[f"level{i}"] = level[::STEP, ::STEP].contiguous()
    listed = json.dumps({key: list(value.shape) for key, value in named.items()}, separators=(",", ":"))
    save(os.path.join(folder, name + ".safetensors"), tensors, {"height": str(height), "width": str(width), "state": listed}, FILE_LIMIT)
