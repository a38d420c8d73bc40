"""Backbones for torch_models.py: levels of strides 4, 8, 16, 32, finest first."""

from torch import nn
from torch.nn import functional as F


def resize(x, size, align_corners):
    return x if tuple(x.shape[2:]) == tuple(size) else F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def conv3x3(in_channels, out_channels, stride=1, dilation=1):
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


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


class HRFuseRow(nn.ModuleDict):
    """The sum of all branches at the size of branch `target`; children are named by the branch they read."""

    def __init__(self, target, channels):
        super().__init__()
        self.target = target
        for source, width in enumerate(channels):
            if source > target:
                self[str(source)] = nn.Sequential(nn.Conv2d(width, channels[target], 1, bias=False), nn.BatchNorm2d(channels[target]),
                                                  nn.Upsample(scale_factor=2 ** (source - target), mode="bilinear", align_corners=False))
            elif source < target:
                steps = [nn.Sequential(conv3x3(width, width, 2), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(source, target - 1)]
                steps.append(nn.Sequential(conv3x3(width, channels[target], 2), nn.BatchNorm2d(channels[target])))
                self[str(source)] = nn.Sequential(*steps)

    def forward(self, branches):
        size = branches[self.target].shape[2:]
        return F.relu(sum(resize(self[str(i)](x), size, False) if i != self.target else x for i, x in enumerate(branches)))


class HRModule(nn.Module):
    def __init__(self, channels, blocks):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c, 1, 1, None) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(HRFuseRow(i, channels) for i in range(len(channels)))

    def forward(self, branches):
        branches = [branch(x) for branch, x in zip(self.branches, branches)]
        return [row(branches) for row in self.fuse_layers]


class HRNet(nn.Module):
    """mmsegmentation's HRNet: a stage adds a branch of half the size and twice the channels."""

    variants = {"w18_small": (18, 2, 2, (1, 3, 2)),  # channels, bottlenecks, blocks, modules a stage
                **{f"w{channels}": (channels, 4, 4, (1, 4, 3)) for channels in (18, 32, 40, 48)}}

    def __init__(self, variant="w18_small"):
        super().__init__()
        width, bottlenecks, blocks, modules = self.variants[variant]
        self.conv1, self.bn1 = conv3x3(3, 64, 2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv3x3(64, 64, 2), nn.BatchNorm2d(64)
        downsample = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256))
        self.layer1 = nn.Sequential(Bottleneck(64, 64, 1, 1, downsample), *(Bottleneck(256, 64, 1, 1, None) for _ in range(1, bottlenecks)))
        before = [256]
        for stage, count in enumerate(modules, 2):
            self.level_channels = [width << i for i in range(stage)]
            self.add_module(f"transition{stage - 1}", self.transition(before, self.level_channels))
            self.add_module(f"stage{stage}", nn.ModuleList(HRModule(self.level_channels, blocks) for _ in range(count)))
            before = self.level_channels

    @staticmethod
    def transition(before, after):
        paths = nn.ModuleDict()
        for i, width in enumerate(after):
            if i < len(before) and before[i] != width:
                paths[str(i)] = nn.Sequential(conv3x3(before[i], width), nn.BatchNorm2d(width), nn.ReLU())
            elif i >= len(before):
                paths[str(i)] = nn.Sequential(nn.Sequential(conv3x3(before[-1], width, 2), nn.BatchNorm2d(width), nn.ReLU()))
        return paths

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        branches = [self.layer1(x)]
        for stage in (2, 3, 4):
            paths = getattr(self, f"transition{stage - 1}")
            branches = [paths[str(i)](branches[min(i, len(branches) - 1)]) if str(i) in paths else branches[i] for i in range(stage)]
            for module in getattr(self, f"stage{stage}"):
                branches = module(branches)
        return branches


def same_pad(x, kernel, stride, dilation):
    """TensorFlow's SAME: ceil(size / stride) outputs, an odd share of the padding at the bottom and right."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max(0, ((size + stride - 1) // stride - 1) * stride + dilation * (kernel - 1) + 1 - size)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class MobileNetV1(nn.Module):
    """Keras's MobileNet V1 and its names. Where the output stride is reached, a block's stride becomes a dilation of those behind it."""

    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    level_ends = (3, 5, 11, 13)

    def __init__(self, multiplier=1, output_stride=32):
        super().__init__()
        self.steps, self.level_channels = [], []
        width, reached, dilation = int(32 * multiplier), 2, 1
        self.add_step("conv1", 3, width, 3, 2, 1, 1)
        for number, (channels, stride) in enumerate(self.blocks, 1):
            dilate = reached * stride > output_stride
            self.add_step(f"conv_dw_{number}", width, width, 3, 1 if dilate else stride, dilation, width)
            self.add_step(f"conv_pw_{number}", width, int(channels * multiplier), 1, 1, 1, 1)
            width = int(channels * multiplier)
            if dilate:
                dilation *= stride
            else:
                reached *= stride
            if number in self.level_ends:
                self.level_channels.append(width)

    def add_step(self, name, in_channels, out_channels, kernel, stride, dilation, groups):
        self.add_module(name, nn.Conv2d(in_channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=False))
        self.add_module(name + "_bn", nn.BatchNorm2d(out_channels, eps=1e-3))
        self.steps.append((name, kernel, stride, dilation))

    def forward(self, x):
        levels = []
        for name, kernel, stride, dilation in self.steps:
            x = getattr(self, name)(same_pad(x, kernel, stride, dilation))
            x = F.relu6(getattr(self, name + "_bn")(x))
            if name in [f"conv_pw_{end}" for end in self.level_ends]:
                levels.append(x)
        return levels
