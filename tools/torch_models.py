"""Reference networks in plain PyTorch: mmsegmentation's structure and parameter names, nothing but torch needed.

They are oracles: tools/make_goldens.py writes their values and gradients, benchmarks/train_step.py times them. A model is
built from the "model" section of a recipe (models/options.h names the keys and their defaults).

    python3 tools/torch_models.py recipes/shapes_upernet_resnet18.json     prints parameter names, shapes and the count
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from recipes import classes_of, read_recipe


def resize(x, size, align_corners):
    return x if tuple(x.shape[2:]) == tuple(size) else F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def conv3x3(in_channels, out_channels, stride=1, dilation=1):
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


class ConvModule(nn.Module):
    """conv (no bias) - bn - relu, with 'same' padding."""

    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_channels, channels, stride, dilation, downsample):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)  # mmsegmentation dilates the first of the two only
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels, channels, stride, dilation, downsample):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """Levels of strides 4, 8, 16, 32. Output stride 16 or 8 replaces the last one or two strides by dilation 2 (and 4);
    the first block of a dilated stage uses half of it."""

    stages = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)),
              50: (Bottleneck, (3, 4, 6, 3)), 101: (Bottleneck, (3, 4, 23, 3))}

    def __init__(self, depth=18, stem="v1c", width=64, output_stride=32):
        super().__init__()
        if stem == "v1c":
            half = width // 2
            self.stem = nn.Sequential(
                conv3x3(3, half, 2), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
                conv3x3(half, half), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
                conv3x3(half, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        else:
            self.stem = None
            self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
        block, counts = self.stages[depth]
        strides, dilations = {32: ((1, 2, 2, 2), (1, 1, 1, 1)), 16: ((1, 2, 2, 1), (1, 1, 1, 2)),
                              8: ((1, 2, 1, 1), (1, 1, 2, 4))}[output_stride]
        in_channels = width
        self.level_channels = []
        for stage in range(4):
            channels, stride, dilation = width << stage, strides[stage], dilations[stage]
            blocks = []
            for i in range(counts[stage]):
                downsample = None
                if i == 0 and (stride != 1 or in_channels != channels * block.expansion):
                    downsample = nn.Sequential(nn.Conv2d(in_channels, channels * block.expansion, 1, stride, bias=False),
                                               nn.BatchNorm2d(channels * block.expansion))
                first = i == 0
                blocks.append(block(in_channels, channels, stride if first else 1,
                                    max(1, dilation // 2) if first else dilation, downsample))
                in_channels = channels * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            self.level_channels.append(in_channels)

    def forward(self, x):
        x = self.stem(x) if self.stem is not None else F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        levels = []
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            levels.append(x)
        return levels


class Fusion:
    """Resize every branch to the first size given, equalize it if constants are set, concatenate. No module: no names."""

    def __init__(self, align_corners):
        self.align_corners = align_corners
        self.constants = None  # one (mu, sigma) per branch

    def __call__(self, branches, size):
        resized = [resize(x, size, self.align_corners) for x in branches]
        if self.constants is not None:
            resized = [(x - mu) / sigma for x, (mu, sigma) in zip(resized, self.constants)]
        return torch.cat(resized, 1)


class UPerHead(nn.Module):
    def __init__(self, in_channels, channels, num_classes, pool_scales, dropout, align_corners):
        super().__init__()
        self.align_corners = align_corners
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(in_channels[-1], channels, 1)) for scale in pool_scales)
        self.bottleneck = ConvModule(in_channels[-1] + len(pool_scales) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1) for c in in_channels[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in in_channels[:-1])
        self.fpn_bottleneck = ConvModule(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.pyramid_fusion = Fusion(align_corners)  # the deepest map and its pooled versions
        self.level_fusion = Fusion(align_corners)    # the pyramid's levels, finest first

    def forward(self, levels):
        deepest = levels[-1]
        pooled = [deepest] + [module(deepest) for module in self.psp_modules]
        top = self.bottleneck(self.pyramid_fusion(pooled, deepest.shape[2:]))
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, levels)] + [top]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + resize(laterals[i], laterals[i - 1].shape[2:], self.align_corners)
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, laterals)] + [laterals[-1]]
        fused = self.fpn_bottleneck(self.level_fusion(outputs, outputs[0].shape[2:]))
        return self.conv_seg(self.dropout(fused))


class FCNHead(nn.Module):
    def __init__(self, in_channels, channels, num_classes, num_convs, kernel_size, concat_input, dropout):
        super().__init__()
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.Sequential(*(ConvModule(a, b, kernel_size) for a, b in zip(widths, widths[1:])))
        self.conv_cat = ConvModule(in_channels + channels, channels, kernel_size) if concat_input else None
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels):
        x, = levels
        y = self.convs(x)
        if self.conv_cat is not None:
            y = self.conv_cat(torch.cat([x, y], 1))
        return self.conv_seg(self.dropout(y))


class EncoderDecoder(nn.Module):
    """Built from a recipe's "model" section (a dict); forward gives (logits, auxiliary logits or None)."""

    def __init__(self, options, num_classes=None):
        super().__init__()
        backbone = options.get("backbone", {})
        self.align_corners = options.get("align_corners", False)
        num_classes = num_classes or options["num_classes"]
        self.backbone = ResNet(backbone.get("depth", 18), backbone.get("stem", "v1c"), backbone.get("width", 64),
                               backbone.get("output_stride", 32))
        self.head_index = {}
        self.decode_head = self._head("decode_head", options.get("decode_head", {"type": "uper"}), num_classes)
        auxiliary = options.get("auxiliary_head") or {}
        self.auxiliary_head = self._head("auxiliary_head", auxiliary, num_classes) if auxiliary.get("type") else None
        self.reset_parameters()

    def _head(self, name, head, num_classes):
        channels = self.backbone.level_channels
        kind = head.get("type", "uper")
        index = head.get("in_index") or (list(range(len(channels))) if kind == "uper" else [len(channels) - 1])
        index = index if isinstance(index, list) else [index]
        self.head_index[name] = index
        width, dropout = head.get("channels", 512), head.get("dropout", 0.1)
        if kind == "uper":
            return UPerHead([channels[i] for i in index], width, num_classes, head.get("pool_scales", (1, 2, 3, 6)), dropout,
                            self.align_corners)
        if kind == "fcn":
            return FCNHead(channels[index[0]], width, num_classes, head.get("num_convs", 2), head.get("kernel_size", 3),
                           head.get("concat_input", True), dropout)
        raise ValueError(f"unknown head type {kind!r}: uper or fcn")

    def reset_parameters(self):
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                if name.endswith("conv_seg"):
                    nn.init.normal_(module.weight, 0, 0.01)
                    nn.init.zeros_(module.bias)
                else:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images):
        levels = self.backbone(images)
        logits = self._apply_head("decode_head", levels)
        if self.auxiliary_head is None or not self.training:
            return logits, None
        return logits, self._apply_head("auxiliary_head", levels)

    def _apply_head(self, name, levels):
        return getattr(self, name)([levels[i] for i in self.head_index[name]])

    def loss(self, images, labels, auxiliary_weight=0.4):
        """Cross entropy at the labels' size, ignored pixels (255) counting as zero in the mean; and both logits."""
        logits, aux_logits = self(images)
        total = self.pixel_loss(logits, labels)
        if aux_logits is not None:
            total = total + auxiliary_weight * self.pixel_loss(aux_logits, labels)
        return total, logits, aux_logits

    def pixel_loss(self, logits, labels):
        scores = resize(logits, labels.shape[1:], self.align_corners)
        return F.cross_entropy(scores, labels, ignore_index=255, reduction="sum") / labels.numel()

    def predict(self, images):
        return resize(self(images)[0], images.shape[2:], self.align_corners)


def main():
    recipe = read_recipe(sys.argv[1])
    model = EncoderDecoder(recipe["model"], classes_of(recipe))
    for name, value in model.state_dict().items():
        print(name, list(value.shape))
    print(sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main()
