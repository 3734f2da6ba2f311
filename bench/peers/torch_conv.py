"""PyTorch's side of conv.mjs: reads one case a line from standard input (JSON), answers with seconds for each direction.

{"batch", "size", "channels", "out", "kernel", "stride", "padding", "groups"} -> {"forward", "backward_data", "backward_weight"}
"""
import json
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
kept = {}


def operations(key, case):
    if key not in kept:
        x = torch.rand(case["batch"], case["channels"], case["size"], case["size"]) - 0.5
        w = torch.rand(case["out"], case["channels"] // case["groups"], case["kernel"], case["kernel"]) - 0.5
        x = x.to(memory_format=torch.channels_last)
        w = w.to(memory_format=torch.channels_last)
        sizes = dict(stride=case["stride"], padding=case["padding"], groups=case["groups"])
        y = torch.nn.functional.conv2d(x, w, **sizes)
        dy = (torch.rand(y.shape) - 0.5).to(memory_format=torch.channels_last)

        def backward(mask):
            pair = lambda n: [n, n]
            return torch.ops.aten.convolution_backward(
                dy, x, w, None, pair(case["stride"]), pair(case["padding"]), [1, 1], False, [0, 0], case["groups"], mask
            )

        kept.clear()
        kept[key] = {
            "forward": lambda: torch.nn.functional.conv2d(x, w, **sizes),
            "backward_data": lambda: backward([True, False, False]),
            "backward_weight": lambda: backward([False, True, False]),
        }
    return kept[key]


with torch.no_grad():
    for line in sys.stdin:
        answer = {}
        for name, run in operations(line, json.loads(line)).items():
            start = time.perf_counter()
            run()
            answer[name] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)
