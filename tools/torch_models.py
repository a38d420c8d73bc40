"""Reference networks in plain PyTorch: mmsegmentation's structure and parameter names, nothing but torch needed.

They are oracles: tools/make_goldens.py writes their values and gradients, benchmarks/train_step.py times them. A model is
built from the "model" section of a recipe (models/options.h names the keys and their defaults).

    python3 tools/torch_models.py recipes/shapes_upernet_resnet18.json     prints parameter names, shapes and the count
"""

import sys

from torch import nn
from torch.nn import functional as F

from recipes import classes_of, read_recipe
from torch_backbones import HRNet, MobileNetV1, ResNet, resize
from torch_stages import ConvNeXt, SwinTransformer
from torch_heads import HEADS, levels_read
from torch_twins import Twins

STAGED = {"swin": SwinTransformer, "convnext": ConvNeXt, "twins": Twins}


class EncoderDecoder(nn.Module):
    """Built from a recipe's "model" section (a dict); forward gives (logits, auxiliary logits or None)."""

    def __init__(self, options, num_classes=None):
        super().__init__()
        backbone = options.get("backbone", {})
        self.align_corners = options.get("align_corners", False)
        num_classes = num_classes or options["num_classes"]
        self.backbone = self._backbone(backbone)
        self.head_index = {}
        self.decode_head = self._head("decode_head", options.get("decode_head", {"type": "uper"}), num_classes)
        auxiliary = options.get("auxiliary_head") or {}
        self.auxiliary_head = self._head("auxiliary_head", auxiliary, num_classes) if auxiliary.get("type") else None
        self.reset_parameters()

    @staticmethod
    def _backbone(o):
        kind = o.get("type", "resnet")
        if kind == "hrnet":
            return HRNet(o.get("variant", "w18_small"))
        if kind in STAGED:
            return STAGED[kind](o.get("variant"), o.get("multiplier", 1), o.get("drop_path", 0))
        if kind == "mobilenet_v1":
            return MobileNetV1(o.get("multiplier", 1), o.get("output_stride", 32))
        return ResNet(o.get("depth", 18), o.get("stem", "v1c"), o.get("width", 64), o.get("output_stride", 32))

    def _head(self, name, o, num_classes):
        channels = self.backbone.level_channels
        self.head_index[name] = levels_read(o, len(channels))
        return HEADS[o.get("type", "uper")]([channels[i] for i in self.head_index[name]], o, num_classes, self.align_corners)

    def reset_parameters(self):
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                if name.endswith("conv_seg"):
                    nn.init.normal_(module.weight, 0, 0.01)
                    nn.init.zeros_(module.bias)
                else:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(self.backbone, tuple(STAGED.values())):
            self.backbone.reset_parameters()

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
