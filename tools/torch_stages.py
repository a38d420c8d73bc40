"""The backbones of stages for torch_models.py: Swin and ConvNeXt, with mmsegmentation's and mmpretrain's names."""

import torch
from torch import nn
from torch.nn import functional as F


class DropPath(nn.Module):
    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def forward(self, x):
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * (torch.rand(x.shape[0], *(1,) * (x.dim() - 1), dtype=x.dtype, device=x.device) < keep) / keep


def drop_paths(blocks, last):
    rates = torch.linspace(0, last, sum(blocks)).tolist()
    return [[rates.pop(0) for _ in range(count)] for count in blocks]


def stages_of(variants, variant, multiplier):
    channels, blocks = variants[variant]
    return [round(channels * multiplier) << i for i in range(4)], blocks


def start_small(module):
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(part.weight, 0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of [N, C, H, W]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels, drop_path):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pointwise_conv1 = nn.Linear(channels, 4 * channels)
        self.pointwise_conv2 = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        y = self.norm(self.depthwise_conv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pointwise_conv2(F.gelu(self.pointwise_conv1(y)))
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    variants = {"tiny": (96, (3, 3, 9, 3)), "small": (96, (3, 3, 27, 3)), "base": (128, (3, 3, 27, 3))}

    def __init__(self, variant="tiny", multiplier=1, drop_path=0):
        super().__init__()
        self.level_channels, blocks = stages_of(self.variants, variant or "tiny", multiplier)
        c = self.level_channels
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(3, c[0], 4, 4), LayerNorm2d(c[0], eps=1e-6))])
        self.downsample_layers.extend(nn.Sequential(LayerNorm2d(c[i - 1], eps=1e-6), nn.Conv2d(c[i - 1], c[i], 2, 2)) for i in (1, 2, 3))
        self.stages = nn.ModuleList(nn.Sequential(*(ConvNeXtBlock(width, rate) for rate in rates))
                                    for width, rates in zip(c, drop_paths(blocks, drop_path)))
        for i in range(4):
            self.add_module(f"norm{i}", LayerNorm2d(c[i], eps=1e-6))

    def reset_parameters(self):
        start_small(self)

    def forward(self, x):
        levels = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            levels.append(getattr(self, f"norm{i}")(x))
        return levels


def pad_to(x, unit, height_axis):
    """Zeros at the bottom and right; the two axes of the image begin at `height_axis`."""
    h, w = x.shape[height_axis:height_axis + 2]
    behind = (0, 0) * (x.dim() - height_axis - 2)
    return F.pad(x, (*behind, 0, -w % unit, 0, -h % unit))


class WindowMSA(nn.Module):
    def __init__(self, channels, heads, size):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, heads))
        nn.init.normal_(self.relative_position_bias_table, 0, 0.02)
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        place = (2 * size - 1) * rows.flatten() + columns.flatten()
        self.register_buffer("relative_position_index", place[:, None] - place[None, :] + (2 * size - 1) * (size - 1) + size - 1)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x, mask):
        b, cells, channels = x.shape
        q, k, v = self.qkv(x).reshape(b, cells, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:  # of the windows of one picture
            bias = (bias + mask[:, None]).repeat(b // len(mask), 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(y.transpose(1, 2).reshape(b, cells, channels))


class ShiftWindowMSA(nn.Module):
    size = 7

    def __init__(self, channels, heads, shift):
        super().__init__()
        self.w_msa = WindowMSA(channels, heads, self.size)
        self.shift = shift

    def split(self, x):
        n, h, w, c = x.shape
        s = self.size
        return x.reshape(n, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)

    def forward(self, x):
        n, height, width, c = x.shape
        s = self.size
        x = pad_to(x, s, 1)
        h, w = x.shape[1:3]
        mask = None
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
            regions = torch.zeros(1, h, w, 1, device=x.device)
            parts = (slice(0, -s), slice(-s, -self.shift), slice(-self.shift, None))
            for i, rows in enumerate(parts):
                for j, columns in enumerate(parts):
                    regions[:, rows, columns] = 3 * i + j
            regions = self.split(regions)[..., 0]
            mask = (regions[:, :, None] != regions[:, None, :]).to(x.dtype) * -100
        x = self.w_msa(self.split(x), mask)
        x = x.reshape(n, h // s, w // s, s, s, c).transpose(2, 3).reshape(n, h, w, c)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class FFN(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.Linear(channels, hidden), nn.GELU()), nn.Linear(hidden, channels))

    def forward(self, x):
        return self.layers(x)


class SwinBlock(nn.Module):
    def __init__(self, channels, heads, shift, drop_path):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = ShiftWindowMSA(channels, heads, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FFN(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class PatchMerging(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x):
        x = pad_to(x, 2, 1)
        n, h, w, _ = x.shape
        x = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        return self.reduction(self.norm(x)).reshape(n, h // 2, w // 2, -1)


class PatchEmbed(nn.Module):
    """[N, C, H, W] -> [N, H / size, W / size, channels], rounded up."""

    def __init__(self, in_channels, channels, size):
        super().__init__()
        self.size = size
        self.projection = nn.Conv2d(in_channels, channels, size, size)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(self.projection(pad_to(x, self.size, 2)).permute(0, 2, 3, 1))


class SwinTransformer(nn.Module):
    variants = {"tiny": (96, (2, 2, 6, 2)), "small": (96, (2, 2, 18, 2)), "base": (128, (2, 2, 18, 2))}

    def __init__(self, variant="tiny", multiplier=1, drop_path=0):
        super().__init__()
        self.level_channels, blocks = stages_of(self.variants, variant or "tiny", multiplier)
        heads = 4 if variant == "base" else 3
        self.patch_embed = PatchEmbed(3, self.level_channels[0], 4)
        self.stages = nn.ModuleList()
        for i, rates in enumerate(drop_paths(blocks, drop_path)):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(SwinBlock(self.level_channels[i], heads << i, block % 2 * 3, rate) for block, rate in enumerate(rates))
            stage.downsample = PatchMerging(self.level_channels[i]) if i < 3 else None
            self.stages.append(stage)
        for i in range(4):
            self.add_module(f"norm{i}", nn.LayerNorm(self.level_channels[i]))

    def reset_parameters(self):
        start_small(self)

    def forward(self, x):
        x = self.patch_embed(x)
        levels = []
        for i, stage in enumerate(self.stages):
            for block in stage.blocks:
                x = block(x)
            levels.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2))
            x = stage.downsample(x) if stage.downsample is not None else x
        return levels
