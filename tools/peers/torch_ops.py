"""The PyTorch side of `aft bench --peer torch`: the workloads of aft bench, by their names, one timed sample at a time.

Speaks lines of JSON. Says {"ready": VERSION}; then answers
  {"prepare": KERNEL, "shape": {...}, "form": "eager" | "compiled" | "bf16", "threads": N}
      with {"id": N, "note": ...} or {"missing": WHY}
  {"run": N, "least_seconds": S}   with {"seconds": of a call, "calls": N}
  {"drop": N}                      with {}
Inputs are random as aft's are; a backward is timed alone, on the graph of one forward.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

import torch_mixers as mixers


def data(*shape, scale=1.0):
    return torch.randn(*shape) * scale


# Each maker takes the shape and returns (function, tensors): the function of those tensors is what is timed.

def gemm(kernel):
    layout = kernel.split("_")[1]
    if layout == "panels":  # of a linear layer: PyTorch reads its weight where it lies
        layout = "nt"

    def make(s):
        M, N, K = s["M"], s["N"], s["K"]
        a = data(K, M) if layout == "tn" else data(M, K)
        b = data(N, K) if layout == "nt" else data(K, N)
        if kernel.endswith("gelu_backward_f32"):
            return lambda a, b, pre: torch.ops.aten.gelu_backward(a @ b, pre), (a, b, data(M, N))
        if kernel.endswith("bias_f32"):
            return F.linear, (a, b, data(N))
        if kernel.endswith("bias_residual_f32"):
            return lambda a, b, bias, x: F.linear(a, b, bias) + x, (a, b, data(N), data(M, N))
        if kernel.endswith("bias_gelu_f32"):
            def run(a, b, bias):
                pre = F.linear(a, b, bias)
                return F.gelu(pre), pre
            return run, (a, b, data(N))
        if layout == "nn":
            return lambda a, b: a @ b, (a, b)
        return (lambda a, b: a @ b.T, (a, b)) if layout == "nt" else (lambda a, b: a.T @ b, (a, b))
    return make


def rows(function, tensors):
    return lambda s: (function, [data(*(s[x] for x in t)) for t in tensors])


def layer_norm_backward(x, weight, mean, rstd, dy, other):
    return torch.ops.aten.native_layer_norm_backward(dy, x, [x.shape[1]], mean, rstd, weight, weight, [True, False, False])[0] + other


def layer_norm_parameters_backward(x, mean, rstd, dy):
    weight = x.new_ones(x.shape[1])
    return torch.ops.aten.native_layer_norm_backward(dy, x, [x.shape[1]], mean, rstd, weight, weight, [False, True, True])[1:]


def residual_layer_norm(x, branch, weight, bias):
    total = x + branch
    return total, F.layer_norm(total, (x.shape[1],), weight, bias)


def cross_entropy(s):
    targets = torch.randint(s["V"], (s["R"],))

    def run(logits):  # the gradient by autograd, as a training step has it
        logits = logits.detach().requires_grad_()
        loss = F.cross_entropy(logits, targets, reduction="none")
        return loss, torch.autograd.grad(loss.sum(), logits)[0]
    return run, (data(s["R"], s["V"]),)


def embedding(s):
    tokens = torch.randint(256, (s["B"], s["T"]))
    return lambda w, p: F.embedding(tokens, w) + p, (data(256, s["C"]), data(s["T"], s["C"]))


def embedding_backward(s):
    tokens = torch.randint(256, (s["B"], s["T"]))
    return lambda dy: torch.ops.aten.embedding_dense_backward(dy, tokens, 256, -1, False), (data(s["B"], s["T"], s["C"]),)


def adamw(s):
    p = torch.nn.Parameter(data(s["N"]))
    p.grad = data(s["N"])
    optimizer = torch.optim.AdamW([p], lr=1e-3, weight_decay=0.1, fused=True)

    def run():  # aft's kernel sets the gradient to 0 in the same pass; here it is not counted
        optimizer.step()
    return run, ()


PLAIN = {
    "layer_norm_forward_f32": rows(lambda x, w, b: F.layer_norm(x, (x.shape[1],), w, b), ["RC", "C", "C"]),
    "residual_layer_norm_forward_f32": rows(residual_layer_norm, ["RC", "RC", "C", "C"]),
    "layer_norm_backward_f32": lambda s: (layer_norm_backward, (data(s["R"], s["C"]), data(s["C"]), data(s["R"], 1), data(s["R"], 1), data(s["R"], s["C"]), data(s["R"], s["C"]))),
    "layer_norm_parameters_backward_f32": lambda s: (layer_norm_parameters_backward, (data(s["R"], s["C"]), data(s["R"], 1), data(s["R"], 1), data(s["R"], s["C"]))),
    "gelu_forward_f32": rows(F.gelu, ["RC"]),
    "gelu_backward_f32": rows(lambda x, dy: torch.ops.aten.gelu_backward(dy, x), ["RC", "RC"]),
    "add_f32": rows(torch.add, ["RC", "RC"]),
    "column_sum_f32": rows(lambda x: x.sum(0), ["RC"]),
    "dropout_f32": rows(lambda x: F.dropout(x, 0.1), ["RC"]),
    "dropout_residual_f32": rows(lambda x, y: F.dropout(x, 0.1) + y, ["RC", "RC"]),
    "softmax_cross_entropy_f32": cross_entropy,
    "embedding_forward_f32": embedding,
    "embedding_backward_f32": embedding_backward,
    "adamw_f32": adamw,
    "sum_of_squares_f32": rows(torch.linalg.vector_norm, ["N"]),
}


def mixer(kind, causal, form):
    """The operator's function and tensors; the note says which form it takes. Form "formula" is the paper's own, where a faster one is known."""
    def make(s):
        B, T, C = s["B"], s["T"], s["C"]
        q, k, v = data(B, T, C), data(B, T, s["H"] if kind == "conv" else C), data(B, T, C)
        if kind == "simple":
            return lambda *x: mixers.simple(*x, causal), (q, k, v), "running sums"
        if kind == "conv":
            return lambda *x: mixers.conv(*x, causal), (q, k, v, data(s["H"], s["S"])), "grouped conv1d"
        bias = (data(T, s["D"], scale=0.1), data(T, s["D"], scale=0.1))
        if kind == "full":
            return lambda *x: mixers.full(*x, causal), (q, k, v, *bias), "dense"
        local, name = (mixers.local_dense, "dense") if form == "formula" else mixers.local_form(B, T, C, s["D"], s["W"], causal)
        return lambda *x: local(*x, s["W"], causal), (q, k, v, *bias), name
    return make


def prepare(kernel, shape, form):
    """What is called once per timed call, and a note."""
    parts = kernel.split("_")
    note = ""
    if form == "formula" and not kernel.startswith("aft_local_"):
        raise KeyError(form)
    operator = kernel.startswith("aft_") and len(parts) == 4 and parts[3] in ("forward", "backward")
    if operator:
        function, tensors, note = mixer(parts[1], parts[2] == "causal", form)(shape)
    elif kernel.startswith("gemm_"):
        function, tensors = gemm(kernel)(shape)
    elif kernel in PLAIN:
        function, tensors = PLAIN[kernel](shape)
    else:
        raise KeyError(kernel)
    run = torch.compile(function, dynamic=False) if form == "compiled" else function

    def cast(call):
        with torch.autocast("cpu", torch.bfloat16, enabled=form == "bf16"):
            return call()

    if operator and parts[3] == "backward":
        leaves = [x.requires_grad_() for x in tensors]
        output = cast(lambda: run(*leaves))
        gradient = torch.randn_like(output)
        return lambda: torch.autograd.grad(output, leaves, gradient, retain_graph=True), note
    if kernel == "softmax_cross_entropy_f32" or kernel == "adamw_f32":
        return lambda: cast(lambda: run(*tensors)), note

    def plain():
        with torch.no_grad():
            return cast(lambda: run(*tensors))
    return plain, note


def sample(call, least_seconds):
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < least_seconds:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls, calls


def main():
    import torch._functorch.config as functorch
    functorch.donated_buffer = False  # a backward is timed many times on the graph of one forward
    torch.manual_seed(0)
    say = lambda **x: print(json.dumps(x), flush=True)
    say(ready="PyTorch " + torch.__version__)
    calls, count = {}, 0
    for line in sys.stdin:
        ask = json.loads(line)
        if "prepare" in ask:
            torch.set_num_threads(ask["threads"])
            try:
                torch.compiler.reset()
                call, note = prepare(ask["prepare"], ask["shape"], ask["form"])
                call(), call()  # compiles, allocates
            except KeyError:
                say(missing=f"it has no {ask['prepare']} of this form")
            except Exception as error:  # what torch.compile cannot do is no reason to end
                say(missing=(str(error).strip().splitlines() or [type(error).__name__])[0][:200])
            else:
                count += 1
                calls[count] = call
                say(id=count, note=note)
        elif "run" in ask:
            call = calls[ask["run"]]
            call()
            seconds, done = sample(call, ask["least_seconds"])
            say(seconds=seconds, calls=done)
        elif "drop" in ask:
            calls.pop(ask["drop"], None)
            say()


if __name__ == "__main__":
    main()
