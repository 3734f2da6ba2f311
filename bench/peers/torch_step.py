"""PyTorch's training step of the same model and loss, for `turl bench step --peers`.

Says {"peer", "threads"} first, then reads commands from standard input, one a line: `run N` times N steps and answers with their seconds
as JSON. Images lie ready as floats. Channels-last; bfloat16 by autocast; torch.compile on a GPU where this PyTorch has it. The models are
those of src/nn: IResNet (blocks of BN-conv-BN-PReLU-conv-BN) and MobileFaceNet. The losses: the full method (K sub-embeddings with
confidences, margin softmax over N identities, discriminator of V variations under masks), or CosFace. SGD with momentum.
"""
import argparse
import contextlib
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
numbers = dict(batch=64, size=56, embedding=256, groups=16, variations=3, identities=10000, threads=2)
for name, value in numbers.items():
    parser.add_argument('--' + name, type=int, default=value)
parser.add_argument('--model', choices=['iresnet', 'mobilefacenet'], default='iresnet')
parser.add_argument('--channels', default='32,64,128,256')
parser.add_argument('--blocks', default='2,2,2,2')
parser.add_argument('--loss', choices=['full', 'cosface'], default='full')
parser.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32')
parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
parser.add_argument('--leaky', action='store_true', help='LeakyReLU in the place of PReLU')
options = parser.parse_args()
torch.set_num_threads(options.threads)
torch.manual_seed(1)
device = torch.device(options.device)


def activation(channels):
    return nn.LeakyReLU(0.25) if options.leaky else nn.PReLU(channels)


def convolution(inputs, outputs, size=3, stride=1, groups=1, padding=None):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2 if padding is None else padding, groups=groups, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs), convolution(inputs, outputs), nn.BatchNorm2d(outputs), activation(outputs),
            convolution(outputs, outputs, stride=stride), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.residual(x) + self.shortcut(x)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, outputs, stride, residual):
        super().__init__()
        self.residual = residual
        self.path = nn.Sequential(
            *unit(inputs, width, 1), *unit(width, width, 3, stride, width), convolution(width, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.path(x) + x if self.residual else self.path(x)


def unit(inputs, outputs, size, stride=1, groups=1):
    return [convolution(inputs, outputs, size, stride, groups), nn.BatchNorm2d(outputs), activation(outputs)]


def iresnet():
    channels, blocks = ([int(n) for n in text.split(',')] for text in (options.channels, options.blocks))
    layers, inputs, side = unit(3, channels[0], 3), channels[0], options.size
    for outputs, count in zip(channels, blocks):
        for i in range(count):
            layers.append(Block(inputs, outputs, 2 if i == 0 else 1))
            inputs = outputs
        side = (side + 1) // 2
    return nn.Sequential(*layers, nn.BatchNorm2d(inputs)), inputs * side * side


def mobilefacenet():
    layers, inputs, side = unit(3, 64, 3, 2) + unit(64, 64, 3, 1, 64), 64, (options.size + 1) // 2
    for outputs, halving, count, width in ((64, 128, 4, 128), (128, 256, 6, 256), (128, 512, 2, 256)):
        layers.append(Bottleneck(inputs, halving, outputs, 2, False))
        layers += [Bottleneck(outputs, width, outputs, 1, True) for _ in range(count)]
        inputs, side = outputs, (side + 1) // 2
    layers += unit(inputs, 512, 1) + [convolution(512, 512, side, groups=512, padding=0), nn.BatchNorm2d(512)]
    return nn.Sequential(*layers), 512


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.width = iresnet() if options.model == 'iresnet' else mobilefacenet()
        self.embedding = nn.Linear(self.width, options.embedding)
        self.normalise = nn.BatchNorm1d(options.embedding)

    def forward(self, x):
        features = self.body(x).flatten(1)
        return self.normalise(self.embedding(features)), features


class CosFace(nn.Module):
    def __init__(self, width, scale=64.0, margin=0.35):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.prototypes = nn.Parameter(torch.randn(options.identities, options.embedding))

    def forward(self, embedding, features, labels, variations):
        cosines = F.linear(F.normalize(embedding), F.normalize(self.prototypes))
        return F.cross_entropy(self.scale * (cosines - self.margin * F.one_hot(labels, options.identities)), labels)


class UniversalLoss(nn.Module):
    def __init__(self, width, margin=30.0):
        super().__init__()
        K, V, self.margin = options.groups, options.variations, margin
        self.prototypes = nn.Parameter(torch.randn(options.identities, K, options.embedding // K))
        self.confidence = nn.Linear(width, K)
        self.classifier = nn.Linear(options.embedding, V)
        masks = torch.zeros(V, K)
        for t in range(V):
            masks[t, torch.randperm(K)[: K // 2]] = 1
        self.register_buffer('masks', masks)

    def forward(self, embedding, features, labels, variations):
        B, K = len(labels), options.groups
        f = F.normalize(embedding.view(B, K, -1), dim=2)
        s = F.softplus(self.confidence(features))
        logits = F.linear((f * s[:, :, None] / K).flatten(1), F.normalize(self.prototypes, dim=2).flatten(1))
        logits = logits - self.margin * F.one_hot(labels, options.identities)
        loss = F.cross_entropy(logits, labels) + 0.001 * s.square().mean()
        w, V = self.classifier.weight.view(-1, K, embedding.shape[1] // K), options.variations

        def log_odds(f, w, bias):  # [B, V masks, V targets]
            return torch.einsum('bkd,vkd,tk->btv', f, w, self.masks) + bias

        target = variations[:, None, :].expand(B, V, V)
        own = torch.eye(V, device=f.device)
        entropy = F.binary_cross_entropy_with_logits
        trains_c = entropy(log_odds(f.detach(), w, self.classifier.bias), target, reduction='none')
        z = log_odds(f, w.detach(), self.classifier.bias.detach())
        cls = entropy(z, target, reduction='none') * own
        adv = entropy(z, torch.full_like(z, 0.5), reduction='none') * (1 - own)
        return loss + (trains_c + 2 * cls + 2 * adv).sum((1, 2)).mean()


network = Network().to(device=device, memory_format=torch.channels_last)
head = (UniversalLoss if options.loss == 'full' else CosFace)(network.width).to(device)
fused = dict(fused=True) if options.device == 'cuda' and int(torch.__version__.split('.')[0]) >= 2 else {}
optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.01, momentum=0.9, weight_decay=5e-4, **fused)
x = torch.randn(options.batch, 3, options.size, options.size, device=device).contiguous(memory_format=torch.channels_last)
labels = torch.randint(0, options.identities, (options.batch,), device=device)
variations = torch.randint(0, 2, (options.batch, options.variations), device=device).float()
compiled = options.device == 'cuda' and hasattr(torch, 'compile')
half = options.precision == 'bfloat16'


def whole(x, labels, variations):
    with torch.autocast(options.device, dtype=torch.bfloat16) if half else contextlib.nullcontext():
        return head(*network(x), labels, variations)


loss_of = torch.compile(whole) if compiled else whole


def step():
    optimizer.zero_grad(set_to_none=True)
    loss_of(x, labels, variations).backward()
    optimizer.step()
    if options.device == 'cuda':
        torch.cuda.synchronize()


kind = ('LeakyReLU ' if options.leaky else '') + ('compiled ' if compiled else '')
print(json.dumps({'peer': f'torch {torch.__version__} {kind}'.strip(), 'threads': torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    times = []
    for _ in range(int(line.split()[1])):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
