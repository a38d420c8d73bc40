"""Twins for torch_models.py, with mmsegmentation's names; models/backbones/twins.h says where others differ."""

import torch
from torch import nn
from torch.nn import functional as F

from torch_stages import FFN, DropPath, PatchEmbed, drop_paths, pad_to


class LocalAttention(nn.Module):
    """Within windows of 7 x 7 pixels of [N, H, W, C]; the padding of the last ones is masked."""

    size = 7

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def windows(self, x):
        """[N, windows, cells, C]"""
        x = pad_to(x, self.size, 1)
        return x.unfold(1, self.size, self.size).unfold(2, self.size, self.size).flatten(1, 2).flatten(3).transpose(2, 3)

    def forward(self, x):
        n, height, width, c = x.shape
        rows, columns = -(-height // self.size), -(-width // self.size)
        q, k, v = self.qkv(self.windows(x)).unflatten(3, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        is_key = self.windows(torch.ones_like(x[:1, ..., :1])).bool().reshape(1, rows * columns, 1, 1, -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=is_key)
        y = y.permute(0, 1, 3, 2, 4).reshape(n, rows, columns, self.size, self.size, c)
        y = y.transpose(2, 3).reshape(n, rows * self.size, columns * self.size, c)
        return self.proj(y[:, :height, :width])


class GlobalAttention(nn.Module):
    """Of all pixels to a map that is `ratio` times smaller."""

    def __init__(self, channels, heads, ratio):
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        if ratio > 1:
            self.sr = nn.Conv2d(channels, channels, ratio, ratio)
            self.norm = nn.LayerNorm(channels)
        self.ratio = ratio

    def forward(self, x):
        keys = x
        if self.ratio > 1:
            keys = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        keys = keys.flatten(1, 2)
        return self.attn(x.flatten(1, 2), keys, keys, need_weights=False)[0].reshape(x.shape)


class Block(nn.Module):
    def __init__(self, channels, attention, ratio, drop_path):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FFN(channels, ratio * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class PositionEncoding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x):
        return x + self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Twins(nn.Module):
    variants = {"svt_small": (64, 2, (2, 2, 10, 4)), "svt_base": (96, 3, (2, 2, 18, 2)), "svt_large": (128, 4, (2, 2, 18, 2)),
                "pcpvt_small": (64, 1, (3, 4, 6, 3)), "pcpvt_base": (64, 1, (3, 4, 18, 3)), "pcpvt_large": (64, 1, (3, 8, 27, 3))}
    subsampling = (8, 4, 2, 1)

    def __init__(self, variant="svt_small", multiplier=1, drop_path=0):
        super().__init__()
        variant = variant or "svt_small"
        local = variant.startswith("svt")
        channels, heads, blocks = self.variants[variant]
        widths, ratios = ((1, 2, 4, 8), (4, 4, 4, 4)) if local else ((1, 2, 5, 8), (8, 8, 4, 4))
        self.level_channels = [round(channels * multiplier) * width for width in widths]
        before = [3, *self.level_channels]
        self.patch_embeds = nn.ModuleList(PatchEmbed(before[i], before[i + 1], 2 if i else 4) for i in range(4))
        self.layers = nn.ModuleList()
        for i, rates in enumerate(drop_paths(blocks, drop_path)):
            c, h = self.level_channels[i], heads * widths[i]
            attentions = [LocalAttention(c, h) if local and block % 2 == 0 else GlobalAttention(c, h, self.subsampling[i])
                          for block in range(blocks[i])]
            self.layers.append(nn.ModuleList(Block(c, attention, ratios[i], rate) for attention, rate in zip(attentions, rates)))
        self.position_encodings = nn.ModuleList(map(PositionEncoding, self.level_channels))
        if local:
            self.norm_list = nn.ModuleList(map(nn.LayerNorm, self.level_channels))

    def reset_parameters(self):
        """Products from N(0, 0.02); convolutions He-normal by fan-out, which is a group's; biases 0."""
        for name, value in self.named_parameters():
            if value.dim() == 2:
                nn.init.normal_(value, 0, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(value)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, (2 * module.groups / module.weight[:, 0].numel()) ** 0.5)

    def forward(self, x):
        levels = []
        for i, (embed, blocks, position) in enumerate(zip(self.patch_embeds, self.layers, self.position_encodings)):
            x = embed(x)
            for j, block in enumerate(blocks):
                x = block(x)
                if j == 0:
                    x = position(x)
            if hasattr(self, "norm_list"):
                x = self.norm_list[i](x)
            x = x.permute(0, 3, 1, 2)
            levels.append(x)
        return levels
