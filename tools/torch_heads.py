"""Decode heads for torch_models.py. A head is called with the backbone's levels that it reads."""

import torch
from torch import nn
from torch.nn import functional as F

from torch_backbones import resize


class ConvModule(nn.Module):
    """conv (no bias) - bn - relu, with 'same' padding."""

    def __init__(self, in_channels, out_channels, kernel_size, dilation=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation,
                              groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SeparableConvModule(nn.Sequential):
    """mmcv's DepthwiseSeparableConvModule."""

    def __init__(self, in_channels, out_channels, kernel_size, dilation=1):
        super().__init__()
        self.depthwise_conv = ConvModule(in_channels, in_channels, kernel_size, dilation, in_channels)
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1)


class Fusion:
    """Resize every branch to the size given, equalize it if constants are set, concatenate. No module: no names."""

    def __init__(self, align_corners):
        self.align_corners = align_corners
        self.constants = None  # one (mu, sigma) per branch

    def __call__(self, branches, size):
        resized = [resize(x, size, self.align_corners) for x in branches]
        if self.constants is not None:
            resized = [(x - mu) / sigma for x, (mu, sigma) in zip(resized, self.constants)]
        return torch.cat(resized, 1)


class Head(nn.Module):
    """What a head has before its classifier comes from build(in_channels of the levels read, options, channels)."""

    def __init__(self, in_channels, o, num_classes, align_corners):
        super().__init__()
        self.align_corners = align_corners
        channels = o.get("channels", 512)
        self.build(in_channels, o, channels)
        self.dropout = nn.Dropout2d(max(0.0, o.get("dropout", 0.1)))
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def fusion(self):
        return Fusion(self.align_corners)

    def sites(self):
        return {name: value for name, value in vars(self).items() if isinstance(value, Fusion)}

    def classify(self, x):
        return self.conv_seg(self.dropout(x))


def pyramid_pooling(in_channels, channels, scales):
    return nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(in_channels, channels, 1)) for scale in scales)


class PSPHead(Head):
    def build(self, in_channels, o, channels):
        scales = o.get("pool_scales", (1, 2, 3, 6))
        self.psp_modules = pyramid_pooling(in_channels[-1], channels, scales)
        self.bottleneck = ConvModule(in_channels[-1] + len(scales) * channels, channels, 3)
        self.ppm_fusion = self.fusion()  # the map and its pooled versions

    def pyramid(self, x):
        return self.bottleneck(self.ppm_fusion([x] + [module(x) for module in self.psp_modules], x.shape[2:]))

    def forward(self, levels):
        return self.classify(self.pyramid(levels[-1]))


class UPerHead(PSPHead):
    def build(self, in_channels, o, channels):
        super().build(in_channels, o, channels)
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1) for c in in_channels[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in in_channels[:-1])
        self.fpn_bottleneck = ConvModule(len(in_channels) * channels, channels, 3)
        self.fpn_fusion = self.fusion()  # finest first, the pyramid last

    def forward(self, levels):
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, levels)] + [self.pyramid(levels[-1])]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + resize(laterals[i], laterals[i - 1].shape[2:], self.align_corners)
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, laterals)] + [laterals[-1]]
        return self.classify(self.fpn_bottleneck(self.fpn_fusion(outputs, outputs[0].shape[2:])))


class ASPPHead(Head):
    separable = False

    def build(self, in_channels, o, channels):
        dilations = o.get("dilations", (1, 12, 24, 36))
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(in_channels[0], channels, 1))
        self.aspp_modules = nn.ModuleList(self.branch(in_channels[0], channels, dilation) for dilation in dilations)
        self.bottleneck = ConvModule((len(dilations) + 1) * channels, channels, 3)
        self.aspp_fusion = self.fusion()  # the pooled branch first

    def branch(self, in_channels, channels, dilation):
        if dilation == 1:
            return ConvModule(in_channels, channels, 1)
        return (SeparableConvModule if self.separable else ConvModule)(in_channels, channels, 3, dilation)

    def pyramid(self, x):
        return self.bottleneck(self.aspp_fusion([self.image_pool(x)] + [module(x) for module in self.aspp_modules], x.shape[2:]))

    def forward(self, levels):
        return self.classify(self.pyramid(levels[0]))


class SepASPPHead(ASPPHead):
    """DepthwiseSeparableASPPHead; its second input is the level c1_level."""

    separable = True

    def build(self, in_channels, o, channels):
        super().build(in_channels, o, channels)
        c1_channels = o.get("c1_channels", 48)
        if c1_channels:
            self.c1_bottleneck = ConvModule(in_channels[1], c1_channels, 1)
        self.sep_bottleneck = nn.Sequential(SeparableConvModule(channels + c1_channels, channels, 3), SeparableConvModule(channels, channels, 3))
        self.c1_fusion = self.fusion() if c1_channels else None  # the pyramid first

    def forward(self, levels):
        x = self.pyramid(levels[0])
        if self.c1_fusion is not None:
            c1 = self.c1_bottleneck(levels[1])
            x = self.c1_fusion([x, c1], c1.shape[2:])
        return self.classify(self.sep_bottleneck(x))


class FCNHead(Head):
    def build(self, in_channels, o, channels):
        kernel_size, total = o.get("kernel_size", 3), sum(in_channels)
        widths = [total] + [channels] * o.get("num_convs", 2)
        self.convs = nn.Sequential(*(ConvModule(a, b, kernel_size) for a, b in zip(widths, widths[1:])))
        self.conv_cat = ConvModule(total + channels, channels, kernel_size) if o.get("concat_input", True) else None
        self.input_fusion = self.fusion()  # resize_concat; of a single level, the level itself
        self.concat_fusion = self.fusion()

    def forward(self, levels):
        size = levels[0].shape[2:]
        y = self.convs(self.input_fusion(levels, size))
        if self.conv_cat is not None:
            y = self.conv_cat(self.concat_fusion([*levels, y], size))
        return self.classify(y)


HEADS = {"uper": UPerHead, "psp": PSPHead, "aspp": ASPPHead, "sep_aspp": SepASPPHead, "fcn": FCNHead}


def levels_read(o, count):
    """The backbone levels that a head reads, in its order."""
    kind = o.get("type", "uper")
    index = o.get("in_index") or (list(range(count)) if kind == "uper" or o.get("input_transform") else [count - 1])
    return index + [o.get("c1_level", 0)] if kind == "sep_aspp" and o.get("c1_channels", 48) else index
