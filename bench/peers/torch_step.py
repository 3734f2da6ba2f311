"""PyTorch's training step of the small IResNet with the full method, for bench/step.mjs.

Reads commands from standard input, one a line: `run N` times N steps and answers with their seconds as JSON. The model is that of
experiments/quickstart.yaml at the benchmark's size: stem and four stages of residual blocks (BN-conv-BN-PReLU-conv-BN), D-dimensional
embedding, K sub-embeddings with confidences, margin softmax over N identities, variation discriminator; SGD with momentum.
"""
import argparse
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
for name, value in dict(batch=64, size=56, embedding=256, groups=16, variations=3, identities=10000, threads=2).items():
    parser.add_argument('--' + name, type=int, default=value)
parser.add_argument('--channels', default='32,64,128,256')
parser.add_argument('--leaky', action='store_true', help='LeakyReLU in the place of PReLU')
options = parser.parse_args()
torch.set_num_threads(options.threads)
torch.manual_seed(1)


def activation(channels):
    return nn.LeakyReLU(0.25) if options.leaky else nn.PReLU(channels)


def convolution(inputs, outputs, size=3, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs), convolution(inputs, outputs), nn.BatchNorm2d(outputs), activation(outputs),
            convolution(outputs, outputs, stride=stride), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
            convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.residual(x) + self.shortcut(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        channels = [int(c) for c in options.channels.split(',')]
        layers = [convolution(3, channels[0]), nn.BatchNorm2d(channels[0]), activation(channels[0])]
        inputs, side = channels[0], options.size
        for outputs in channels:
            layers += [Block(inputs, outputs, 2), Block(outputs, outputs, 1)]
            inputs, side = outputs, (side + 1) // 2
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(inputs))
        self.width = inputs * side * side
        self.embedding = nn.Linear(self.width, options.embedding)
        self.normalise = nn.BatchNorm1d(options.embedding)

    def forward(self, x):
        features = self.body(x).flatten(1)
        return self.normalise(self.embedding(features)), features


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
        own = torch.eye(V)
        trains_c = F.binary_cross_entropy_with_logits(log_odds(f.detach(), w, self.classifier.bias), target, reduction='none')
        z = log_odds(f, w.detach(), self.classifier.bias.detach())
        cls = F.binary_cross_entropy_with_logits(z, target, reduction='none') * own
        adv = F.binary_cross_entropy_with_logits(z, torch.full_like(z, 0.5), reduction='none') * (1 - own)
        return loss + (trains_c + 2 * cls + 2 * adv).sum((1, 2)).mean()


network = Network().to(memory_format=torch.channels_last)
head = UniversalLoss(network.width)
optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.01, momentum=0.9, weight_decay=5e-4)
x = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
labels = torch.randint(0, options.identities, (options.batch,))
variations = torch.randint(0, 2, (options.batch, options.variations)).float()


def step():
    optimizer.zero_grad(set_to_none=True)
    loss = head(*network(x), labels, variations)
    loss.backward()
    optimizer.step()


print(json.dumps({'peer': 'torch ' + torch.__version__, 'threads': torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    times = []
    for _ in range(int(line.split()[1])):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
