"""The AFT operators in PyTorch, in the fastest honest form known for each; shared by torch_peer.py and torch_ops.py.

They subtract the key's maximum over the sequence, as public code does. AFT-local has two forms, and `local` takes the one
that is faster at the given shape (timed once, forward and backward):
  dense    one product of a masked [T, T] matrix with [exp(k) v | exp(k)]
  chunked  running sums of [exp(k) v | exp(k)], plus blocks of (exp(w) - 1) that touch the window
Run as a program it compares every form with loops in double precision.
"""
import time

import torch
import torch.nn.functional as F


def packed(k, v):
    e = torch.exp(k - k.amax(1, keepdim=True))
    return torch.cat([e * v, e], -1)


def gate(q, sums):
    num, den = sums.chunk(2, -1)
    return torch.sigmoid(q) * num / den


def simple(q, k, v, causal=True):
    x = packed(k, v)
    return gate(q, torch.cumsum(x, 1) if causal else x.sum(1, keepdim=True))


def full(q, k, v, u, w_v, causal=True):
    w = u @ w_v.T
    if causal:
        T = w.shape[0]
        w = w.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
    return gate(q, torch.exp(w - w.amax(1, keepdim=True)) @ packed(k, v))


def local_dense(q, k, v, u, w_v, window, causal=True):
    w = u @ w_v.T
    T = w.shape[0]
    distance = torch.arange(T)[:, None] - torch.arange(T)[None, :]
    w = w.masked_fill(distance.abs() >= window, 0.0)
    if causal:
        w = w.masked_fill(distance < 0, float("-inf"))
    return gate(q, torch.exp(w - w.amax(1, keepdim=True)) @ packed(k, v))


def local_chunked(q, k, v, u, w_v, window, causal=True, block=0):
    B, T, C = q.shape
    c = block or max(window, 64)
    n = (T + c - 1) // c
    neighbours = (1, 0) if causal else (2, 1, 0)  # blocks of keys before, at and behind a block of queries

    def blocks(x, dim):  # T -> n blocks of c, and one of zeros on each side
        x = F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [c, n * c - T + c])
        return x.unflatten(dim, (n + 2, c))

    def near(x, dim):  # the blocks of keys that a block of queries meets, one behind the other
        x = blocks(x, dim)
        parts = [x.narrow(dim, 1 - offset, n) for offset in ((1, 0) if causal else (1, 0, -1))]
        return torch.cat(parts, dim + 1)

    x = packed(k, v)
    w = blocks(u, 0)[1:-1] @ near(w_v, 0).transpose(1, 2)  # [n, c, len(neighbours) c]
    distance = torch.arange(c)[:, None] + c - torch.arange(len(neighbours) * c)[None, :]
    outside = distance.abs() >= window
    if causal:
        outside = outside | (distance < 0)
    band = torch.expm1(w.masked_fill(outside, 0.0))
    inside = (band @ near(x, 1)).flatten(1, 2)[:, :T]
    return gate(q, inside + (torch.cumsum(x, 1) if causal else x.sum(1, keepdim=True)))


def seconds_of(function, inputs, repeats=3):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function(*leaves).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best


def local_form(B, T, C, rank, window, causal=True):
    """The faster of the two forms at this shape, and its name."""
    inputs = [torch.randn(B, T, C) for _ in range(3)] + [torch.randn(T, rank) * 0.1 for _ in range(2)]
    forms = {"dense": local_dense, "chunked": local_chunked}
    times = {name: seconds_of(lambda *x, f=f: f(*x, window, causal), inputs) for name, f in forms.items()}
    name = min(times, key=times.get)
    return forms[name], name


def conv(q, k, v, filter, causal=True):
    """q, v [B, T, C], k [B, T, H], filter [H, s]; head h serves C / H neighbouring channels."""
    H, s = filter.shape
    group = v.shape[-1] // H
    e = torch.exp(k - k.amax(1, keepdim=True))
    weighted = e.repeat_interleave(group, -1) * v
    both = torch.cat([weighted, e], -1)
    taps = torch.expm1(filter).unsqueeze(1)
    kernel = torch.cat([taps.repeat_interleave(group, 0), taps], 0)
    pad = (s - 1, 0) if causal else ((s - 1) // 2, s // 2)
    near = F.conv1d(F.pad(both.transpose(1, 2), pad), kernel, groups=kernel.shape[0]).transpose(1, 2)
    sums = near + (torch.cumsum(both, 1) if causal else both.sum(1, keepdim=True))
    num, den = sums.split([v.shape[-1], H], -1)
    return torch.sigmoid(q) * num / den.repeat_interleave(group, -1)


def check():
    torch.manual_seed(1)
    B, T, C, rank, window = 2, 83, 6, 5, 7
    q, k, v = (torch.randn(B, T, C) for _ in range(3))
    u, w_v = torch.randn(T, rank), torch.randn(T, rank)
    distance = torch.arange(T)[:, None] - torch.arange(T)[None, :]

    def oracle(w, keys, causal):
        e = torch.exp(w.double())
        if causal:
            e = e.masked_fill(distance < 0, 0.0)
        x = torch.exp(keys.double())
        return torch.sigmoid(q.double()) * torch.einsum("ts,bsc->btc", e, x * v.double()) / torch.einsum("ts,bsc->btc", e, x)

    zero, w = torch.zeros(T, T), u @ w_v.T
    near = w.masked_fill(distance.abs() >= window, 0.0)
    for causal in (True, False):
        found = {
            "simple": (simple(q, k, v, causal), oracle(zero, k, causal)),
            "full": (full(q, k, v, u, w_v, causal), oracle(w, k, causal)),
            "local dense": (local_dense(q, k, v, u, w_v, window, causal), oracle(near, k, causal)),
            "local chunked": (local_chunked(q, k, v, u, w_v, window, causal), oracle(near, k, causal)),
        }
        taps = torch.randn(1, 4)
        offset = distance if causal else distance + 4 // 2
        tap = torch.zeros(T, T)
        for n in range(4):  # conv1d correlates: the last tap meets the newest key
            tap = tap + taps[0, n] * (offset == 3 - n)
        found["conv"] = (conv(q, k[..., :1], v, taps, causal), oracle(tap, k[..., :1].expand(B, T, C), causal))
        for name, (got, wanted) in found.items():
            error = ((got - wanted).abs() / (1 + wanted.abs())).max().item()
            print(f"{name:14} {'causal' if causal else 'both':7} error {error:.1e}")
            assert error < 1e-4, name


if __name__ == "__main__":
    check()
