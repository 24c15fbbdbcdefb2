"""The PyTorch side of `aft bench --peer torch`: the same model, the same shapes, one training step at a time.

Speaks lines: prints {"ready": ...} once warm, then answers every line on stdin with the seconds of one step.
The mixers are those of torch_mixers.py; for AFT-local the faster of its two forms, timed at the start.
"""
import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

import torch_mixers as mixers


class Mixer(nn.Module):
    def __init__(self, a, local):
        super().__init__()
        self.kind, self.window, self.heads, self.local = a.mixer, a.window, a.heads or a.channels, local
        keys = self.heads if a.mixer == "conv" else a.channels
        self.sizes = [a.channels, keys, a.channels]
        self.fused = nn.Linear(a.channels, sum(self.sizes))
        if a.mixer in ("full", "local"):
            self.u = nn.Parameter(torch.randn(a.context, a.rank) * 0.1)
            self.v = nn.Parameter(torch.randn(a.context, a.rank) * 0.1)
        if a.mixer == "conv":
            self.filter = nn.Parameter(torch.randn(self.heads, a.taps))
            self.gamma = nn.Parameter(torch.zeros(self.heads))
            self.beta = nn.Parameter(torch.zeros(self.heads))

    def forward(self, x):
        q, k, v = self.fused(x).split(self.sizes, -1)
        T = x.shape[1]
        if self.kind == "simple":
            return mixers.simple(q, k, v)
        if self.kind == "conv":
            mean, var = self.filter.mean(1, keepdim=True), self.filter.var(1, keepdim=True, unbiased=False)
            return mixers.conv(q, k, v, self.gamma[:, None] * (self.filter - mean) / torch.sqrt(var + 1e-5) + self.beta[:, None])
        if self.kind == "local":
            return self.local(q, k, v, self.u[:T], self.v[:T], self.window)
        return mixers.full(q, k, v, self.u[:T], self.v[:T])


class Attention(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.heads, self.fused, self.out = max(1, a.channels // 64), nn.Linear(a.channels, 3 * a.channels), nn.Linear(a.channels, a.channels)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.fused(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, a, local):
        super().__init__()
        self.norm1, self.norm2, self.drop = nn.LayerNorm(a.channels), nn.LayerNorm(a.channels), nn.Dropout(a.dropout)
        self.mixer = Attention(a) if a.mixer == "attention" else Mixer(a, local)
        self.up, self.down = nn.Linear(a.channels, 4 * a.channels), nn.Linear(4 * a.channels, a.channels)

    def forward(self, x):
        x = x + self.drop(self.mixer(self.norm1(x)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))


class Model(nn.Module):
    def __init__(self, a, local=None):
        super().__init__()
        self.embedding = nn.Embedding(a.vocabulary, a.channels)
        self.position = nn.Parameter(torch.randn(a.context, a.channels) * 0.02)
        self.drop = nn.Dropout(a.dropout)
        self.blocks = nn.ModuleList(Block(a, local) for _ in range(a.layers))
        self.norm, self.head = nn.LayerNorm(a.channels), nn.Linear(a.channels, a.vocabulary)

    def forward(self, tokens):
        x = self.drop(self.embedding(tokens) + self.position[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def peak_memory():  # ru_maxrss would start with that of the program which started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mixer", default="local", choices=["full", "local", "simple", "conv", "attention"])
    p.add_argument("--form", default="eager", choices=["eager", "compiled", "bf16"])
    for name, value in dict(layers=24, channels=256, context=1024, window=32, rank=256, heads=0, taps=32, vocabulary=256, batch=2, threads=2).items():
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--dropout", type=float, default=0.1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    local, note = mixers.local_form(a.batch, a.context, a.channels, a.rank, a.window) if a.mixer == "local" else (None, "")
    model = Model(a, local)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.5, fused=True)
    run = torch.compile(model) if a.form == "compiled" else model
    tokens = torch.randint(a.vocabulary, (a.batch, a.context + 1))

    def step():
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=a.form == "bf16"):
            logits = run(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return time.perf_counter() - start

    for _ in range(2):
        step()
    print(json.dumps({"ready": "PyTorch " + torch.__version__, "note": note, "parameters": sum(x.numel() for x in model.parameters())}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": step(), "memory_bytes": peak_memory()}), flush=True)


if __name__ == "__main__":
    main()
