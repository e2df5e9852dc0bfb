"""Small real architectures with random weights, for the tests."""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, n_in, n, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n, 3, stride, 1, bias=False), nn.BatchNorm2d(n)
        self.conv2, self.bn2 = nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(n_in, n, stride)

    def forward(self, x):
        z = self.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(z))
        z += x if self.downsample is None else self.downsample(x)
        return self.relu(z)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, n_in, n, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n, 1, bias=False), nn.BatchNorm2d(n)
        self.conv2, self.bn2 = nn.Conv2d(n, n, 3, stride, 1, bias=False), nn.BatchNorm2d(n)
        self.conv3, self.bn3 = nn.Conv2d(n, 4 * n, 1, bias=False), nn.BatchNorm2d(4 * n)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(n_in, 4 * n, stride)

    def forward(self, x):
        z = self.relu(self.bn1(self.conv1(x)))
        z = self.relu(self.bn2(self.conv2(z)))
        z = self.bn3(self.conv3(z))
        z += x if self.downsample is None else self.downsample(x)
        return self.relu(z)


def shortcut(n_in, n, stride):
    if stride == 1 and n_in == n:
        return None
    return nn.Sequential(nn.Conv2d(n_in, n, 1, stride, bias=False), nn.BatchNorm2d(n))


class ResNet(nn.Module):
    """ResNet-18 is ResNet(BasicBlock, (2, 2, 2, 2)), ResNet-50 ResNet(Bottleneck, (3, 4, 6, 3)); width 64 there."""

    def __init__(self, block, layers, width=8, classes=10):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)
        n_in, stages = width, []
        for i, depth in enumerate(layers):
            blocks = []
            for j in range(depth):
                blocks.append(block(n_in, width * 2**i, 2 if i and not j else 1))
                n_in = width * 2**i * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages, self.pool, self.fc = nn.Sequential(*stages), nn.AdaptiveAvgPool2d(1), nn.Linear(n_in, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.stages(self.relu(self.bn1(self.conv1(x))))), 1))


def resnet18(width=8):
    return ResNet(BasicBlock, (2, 2, 2, 2), width)


def resnet50(width=4):
    return ResNet(Bottleneck, (3, 4, 6, 3), width)


class ViT(nn.Module):
    def __init__(self, d=32, depth=4, patch=4, side=16):
        super().__init__()
        self.patch = nn.Conv2d(3, d, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, d))
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, d) * 0.02)
        layer = nn.TransformerEncoderLayer(d, 4, 4 * d, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Encoder(nn.Module):
    """nn.TransformerEncoder for a batch of sequences, post- or pre-norm; the samples are the second axis if asked."""

    def __init__(self, norm_first, d=32, depth=6, batch_first=True, dropout=0.0):
        super().__init__()
        layer = nn.TransformerEncoderLayer(d, 4, 4 * d, dropout, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head, self.axis = nn.Linear(d, 10), 1 if batch_first else 0

    def forward(self, x):
        return self.head(self.encoder(x).mean(self.axis))


class UNet(nn.Module):
    def __init__(self, n=8):
        super().__init__()

        def pair(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())

        self.down1, self.down2, self.bottom = pair(3, n), pair(n, 2 * n), pair(2 * n, 4 * n)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * n, 2 * n, 2, 2), nn.ConvTranspose2d(2 * n, n, 2, 2)
        self.join2, self.join1, self.out = pair(4 * n, 2 * n), pair(2 * n, n), nn.Conv2d(n, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.up2(self.bottom(F.max_pool2d(b, 2)))
        c = self.up1(self.join2(torch.cat([b, c], 1)))
        return self.out(self.join1(torch.cat([a, c], 1)))


class GPT(nn.Module):
    """A decoder with causal attention through F.scaled_dot_product_attention and a tied output layer."""

    class Block(nn.Module):
        def __init__(self, d, heads):
            super().__init__()
            self.heads, self.ln1, self.ln2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(self, x):
            n, t, d = x.shape
            q, k, v = (u.view(n, t, self.heads, -1).transpose(1, 2) for u in self.qkv(self.ln1(x)).split(d, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, d)
            x = x + self.proj(y)
            return x + self.down(F.gelu(self.up(self.ln2(x))))

    def __init__(self, words=30, d=32, depth=4, longest=12):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, d), nn.Embedding(longest, d)
        self.blocks = nn.ModuleList(GPT.Block(d, 4) for _ in range(depth))
        self.ln, self.head = nn.LayerNorm(d), nn.Linear(d, words, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class Recurrent(nn.Module):
    def __init__(self, kind, last_state=False):
        super().__init__()
        self.embed, self.cell = nn.Embedding(30, 16), kind(16, 16, 2, batch_first=True)
        self.hidden, self.out, self.last_state = nn.Linear(16, 16), nn.Linear(16, 3), last_state

    def forward(self, ids):
        y, state = self.cell(self.embed(ids))
        state = state[0] if isinstance(state, tuple) else state
        return self.out(torch.tanh(self.hidden(state[-1] if self.last_state else y[:, -1])))


class Shared(nn.Module):
    """One layer that runs five times."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.out = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for _ in range(5):
            x = torch.tanh(self.shared(x))
        return self.out(x)


class Heads(nn.Module):
    """Two inputs, two outputs, one of which is a dictionary's."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.both = nn.Linear(5, 16), nn.Linear(7, 16), nn.Linear(32, 16)
        self.classes, self.value = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, left, right):
        h = F.relu(self.both(torch.cat([F.relu(self.left(left)), F.relu(self.right(right))], 1)))
        return {"classes": self.classes(h), "value": self.value(h)}
