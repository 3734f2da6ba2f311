"""Prints the median milliseconds of PyTorch's forward and backward of the same loss: prototypes normalised in groups, linear, a
margin on the label's logit, cross-entropy. usage: margin_softmax_torch.py B N D K RUNS"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F

B, N, D, K, runs = map(int, sys.argv[1:])
g = torch.randn(B, D, requires_grad=True)
w = torch.randn(N, D, requires_grad=True)
labels = torch.arange(B) * 7919 % N
margin = torch.zeros(B, N).scatter_(1, labels[:, None], 30.0)
times = []
for _ in range(runs + 1):
    g.grad = w.grad = None
    start = time.perf_counter()
    v = F.normalize(w.view(N, K, D // K), dim=2).view(N, D)
    F.cross_entropy(F.linear(g, v) - margin, labels).backward()
    times.append(time.perf_counter() - start)
print(statistics.median(times[1:]) * 1e3)
