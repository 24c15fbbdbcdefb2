"""Markdown of docs/performance.md from the files of scripts/performance.sh: python3 scripts/performance_table.py OUT

A row of the table is a name pattern in one file, and what is wanted of it. Rows without a measurement say so.
"""
import fnmatch
import json
import pathlib
import statistics
import sys

KERNELS = [  # title, pattern, (figure, least value)
    ("products, median of all shapes", "gemm_n*_f32/*|gemm_tn_f32/*", ("ratio", 1.0)),
    ("AFT-simple causal forward [4, 2048, 512]", "aft_simple_causal_forward/*", ("share", 0.95)),
    ("AFT-simple causal backward", "aft_simple_causal_backward/*", ("share", 0.80)),
    ("AFT-simple bidirectional forward", "aft_simple_bidirectional_forward/*", ("share", 0.75)),
    ("AFT-simple bidirectional backward", "aft_simple_bidirectional_backward/*", ("share", 0.75)),
    ("AFT-local 32 [4, 1024, 512] forward", "aft_local_causal_forward/*W:32", ("formula", 15)),
    ("AFT-local 32 backward", "aft_local_causal_backward/*W:32", None),
    ("AFT-local 128 forward", "aft_local_causal_forward/*W:128", ("formula", 6.5)),
    ("AFT-local 128 backward", "aft_local_causal_backward/*W:128", None),
    ("AFT-full causal [4, 1024, 512] forward", "aft_full_causal_forward/*", ("ratio", 2)),
    ("AFT-full causal backward", "aft_full_causal_backward/*", None),
    ("AFT-conv 32 taps, H = 16, [4, 1024, 512] forward", "aft_conv_causal_forward/*H:16/*", ("ratio", 5)),
    ("AFT-conv 32 taps, H = C, forward", "aft_conv_causal_forward/*H:512/*", ("ratio", 5)),
    ("layer norm forward [4096, 512]", "layer_norm_forward_f32/*", ("ratio", 1.0)),
    ("residual + layer norm forward", "residual_layer_norm_forward_f32/*", ("ratio", 1.0)),
    ("softmax cross-entropy, both ways, 1024 x 8192", "softmax_cross_entropy_f32/*", ("share", 0.60)),
    ("AdamW, 30 M parameters", "adamw_f32/*", ("share", 0.95)),
    ("embedding forward", "embedding_forward_f32/*", None),
    ("dropout", "dropout_f32/*", None),
    ("GELU forward [4096, 2048]", "gelu_forward_f32/*", None),
]
STEPS = [  # title, file, least ratio, least utilisation
    ("AFT-local-32 24x256, batch 2", "step-enwik8-local-24x256-batch2", 2.3, 0.60),
    ("AFT-local-32 24x256, batch 8", "step-enwik8-local-24x256-batch8", 2.3, 0.60),
    ("AFT-local-32 12x512, batch 2", "step-enwik8-local-12x512-batch2", None, 0.64),
    ("AFT-local-32 12x512, batch 8", "step-enwik8-local-12x512-batch8", None, 0.68),
    ("AFT-simple 24x256, batch 2", "step-enwik8-simple-24x256-batch2", 1.5, None),
]
FLAT = 0.10  # time per token may differ by this between lengths
TOKENS = 262144  # of recipes/shapes/long-sequences.txt, where the batch shrinks as the length grows
GENERAL = ("eager", "compiled")  # forms that compute what we compute, in fp32


def load(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"context": {}, "benchmarks": []}


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(*cells):
    row(*cells)
    row(*["---"] * len(cells))


def verdict(value, least):
    return "-" if least is None else "not measured" if value is None else "yes" if value >= least else "no"


def percent(value):
    return "-" if value is None else f"{100 * value:.1f} %"


def time_of(ns):
    return f"{ns * 1e-9:.3f} s" if ns >= 1e9 else f"{ns * 1e-6:.3f} ms" if ns >= 1e6 else f"{ns * 1e-3:.1f} us"


def elements(name):
    """B T C of a name like aft_conv_causal_forward/B:4/C:512/H:16/S:32/T:1024."""
    shape = {k: int(v) for k, v in (x.split(":") for x in name.split("/")[1:])}
    return shape["B"] * shape["T"] * shape["C"]


def kernel_rows(folder):
    entries = load(folder, "kernels")["benchmarks"]
    print("\n## Kernels, one core\n")
    head("kernel", "time", "spread", "limit", "share of it", "PyTorch", "ratio", "over bf16", "over the formula", "wanted", "reached")
    for title, patterns, wanted in KERNELS:
        found = [e for e in entries if any(fnmatch.fnmatch(e["name"], p) for p in patterns.split("|"))]
        if not found:
            row(title, "not measured", *["-"] * 9)
            continue

        def ratio_of(e, forms):
            known = [e[f"torch_{f}_time"] for f in forms if f"torch_{f}_time" in e]
            return min(known) / e["real_time"] if known else None

        ratios = [r for e in found if (r := ratio_of(e, GENERAL)) is not None]
        ratio = statistics.median(ratios) if ratios else None
        others = {form: statistics.median(all_of) if (all_of := [r for e in found if (r := ratio_of(e, (form,))) is not None]) else None for form in ("bf16", "formula")}
        share = statistics.median(e["share_of_limit"] for e in found)
        worst = f" (least {min(ratios):.2f})" if len(ratios) > 1 else ""
        peer = f"{time_of(ratio * found[0]['real_time'])}" if ratio and len(found) == 1 else "-"
        note = next((e[k] for e in found for k in e if k.endswith("_note")), "")
        figure, least = wanted or (None, None)
        value = {"ratio": ratio, "formula": others["formula"]}.get(figure, share)
        value = value and round(value, 3 if figure == "share" else 2)  # as it is printed
        row(title, time_of(found[0]["real_time"]) if len(found) == 1 else f"{len(found)} shapes", percent(max(e["spread"] for e in found)), "/".join(sorted({e["limited_by"] for e in found})),
            percent(share), peer + (f" ({note})" if note else ""), f"{ratio:.2f} x{worst}" if ratio else "-", *(f"{x:.2f} x" if x else "-" for x in others.values()),
            "-" if not wanted else percent(least) if figure == "share" else f"{least} x" + (" the formula" if figure == "formula" else ""), verdict(value, least))
    pairs = {}
    for e in entries:
        for way in ("forward", "backward"):
            if f"_{way}/" in e["name"] and e["name"].startswith("aft_"):
                pairs.setdefault(e["name"].replace(f"_{way}/", "/"), {})[way] = e["real_time"]
    conv = [f"`{e['name']}` {e['real_time'] / elements(e['name']):.2f}" for e in entries if e["name"].startswith("aft_conv_")]
    print("\nAFT-conv, ns per element of [B, T, C]: " + ("; ".join(conv) or "not measured") + ".")
    print("\nBackward over forward: " + ("; ".join(f"`{n}` {p['backward'] / p['forward']:.2f}" for n, p in pairs.items() if len(p) == 2) or "not measured") + ".")


def thread_rows(folder):
    gains = [e["scaling"] for e in load(folder, "gemm-2")["benchmarks"] if "scaling" in e]
    text = f"median {statistics.median(gains):.2f}, least {min(gains):.2f}" if gains else "not measured"
    print(f"\nProducts, two cores over one: {text} (wanted: 1.9).")


def step_rows(folder):
    print("\n## Training steps, fp32, two cores\n")
    head("model", "form", "tokens/s", "spread", "FMA peak used", "peak memory", "we are faster by", "wanted", "reached")
    for title, name, least_ratio, least_share in STEPS:
        entries = load(folder, name)["benchmarks"]
        if not entries:
            row(title, "not measured", *["-"] * 7)
            continue
        rivals = [e["time_over_ours"] for e in entries[1:] if "bf16" not in e["name"]]
        ratio = min(rivals) if rivals else None
        for n, e in enumerate(entries):
            ours = n == 0
            share = e["model_flops_utilisation"]
            wanted = [f"{least_ratio} x" if least_ratio else "", percent(least_share) if least_share else ""]
            reached = [verdict(ratio, least_ratio), verdict(share, least_share)]
            row(title if ours else "", e["name"].split("/")[-1], f"{e['tokens_per_second']:.0f}", percent(e["spread"]), percent(share), f"{e['peak_memory_bytes'] * 1e-9:.2f} GB",
                "-" if ours else f"{e['time_over_ours']:.2f} x", ", ".join(w for w in wanted if w) if ours else "", ", ".join(r for r in reached if r != "-") if ours else "")
        eager = next((e for e in entries[1:] if "eager" in e["name"]), None)
        if eager:
            print(f"| | memory over eager's | | | | {percent(entries[0]['peak_memory_bytes'] / eager['peak_memory_bytes'])} | | 50.0 % | {'yes' if 2 * entries[0]['peak_memory_bytes'] <= eager['peak_memory_bytes'] else 'no'} |")


def decode_rows(folder):
    print("\n## Decoding, 24x256, two cores\n")
    head("what", "tokens/s", "of a sequence", "share of its limit", "FMA peak used", "wanted", "reached")
    entries = load(folder, "decode")["benchmarks"]
    if not entries:
        row("not measured", *["-"] * 6)
    for e in entries:
        if e["name"].startswith("startup/"):
            row("start-up to the first token", f"{e['real_time'] * 1e-9:.3f} s", "-", "-", "-", "0.3 s", "yes" if e["real_time"] < 0.3e9 else "no")
            continue
        single = e["name"].endswith("batch:1")
        value, least = (e["share_of_limit"], 0.8) if single else (e["share_of_fma_peak"], 0.5)
        row(e["name"], f"{e['tokens_per_second']:.0f}", f"{e['tokens_per_second_of_a_sequence']:.1f}", f"{percent(e['share_of_limit'])} of {e['limited_by']}", percent(e["share_of_fma_peak"]),
            f"{percent(least)} of {'the limit' if single else 'FMA'}", verdict(value, least))


# One sequence of each length; and as many tokens at each length, where the batch of short ones shares what is made once for all
# sequences (AFT-local's table of biases).
def length_rows(folder):
    print("\n## Time per token against the length, two cores, C = 256\n")
    head("operator", "sequences", "T", "ns per token, forward", "backward", "forward + backward", "over T = 1,024", "wanted")
    found = {}
    for e in load(folder, "lengths")["benchmarks"]:
        kernel, *letters = e["name"].split("/")
        shape = {k: int(v) for k, v in (x.split(":") for x in letters)}
        operator, way = kernel.rsplit("_", 1)
        for same_tokens in ([False] if shape["B"] == 1 else []) + ([True] if shape["B"] * shape["T"] == TOKENS else []):
            found.setdefault((operator, same_tokens, shape["T"]), {})[way] = e["real_time"] / (shape["B"] * shape["T"])
    for (operator, same_tokens, T), times in sorted(found.items()):
        total, first = sum(times.values()), sum(found.get((operator, same_tokens, 1024), {}).values())
        change = total / first - 1 if first else None
        verdict = "-" if T == 1024 or change is None else f"within {100 * FLAT:.0f} %: {'no' if change > FLAT else 'yes' if change >= -FLAT else 'less'}"
        row(operator, f"{TOKENS // T if same_tokens else 1}", f"{T:,}", f"{times.get('forward', 0):.0f}", f"{times.get('backward', 0):.0f}", f"{total:.0f}",
            "-" if change is None else f"{100 * change:+.1f} %", verdict)
    if not found:
        row("not measured", *["-"] * 7)


def main():
    folder = pathlib.Path(sys.argv[1])
    contexts = [c for p in sorted(folder.glob("*.json")) if (c := json.loads(p.read_text())["context"])]
    if not contexts:
        sys.exit(f"{folder}: no measurements; run scripts/performance.sh {folder}")
    print(f"Measured {contexts[0]['date']} to {contexts[-1]['date']} on {contexts[0]['cpu_model']}, aft {contexts[0]['aft_version']}, table {contexts[0]['limits']['target']}; "
          f"other programs used {max(c['cpus_used_by_others'] for c in contexts):.2f} CPUs at most.\n")
    head("limit", *(f"{n} thread{'s' if n > 1 else ''}" for n in (1, 2)))
    by_threads = {c["limits"]["threads"]: c["limits"] for c in contexts}
    row("FMA, GFLOP/s", *(f"{by_threads[n]['fma_flops_per_second'] * 1e-9:.0f}" if n in by_threads else "-" for n in (1, 2)))
    keys = ("read", "copy", "three_reads_one_write", "update")
    for level in ("L1", "L2", "L3", "DRAM"):
        row(f"{level} read / copy / 3r1w / in place, GB/s", *(" / ".join(f"{by_threads[n][level][k + '_bytes_per_second'] * 1e-9:.0f}" for k in keys) if n in by_threads else "-" for n in (1, 2)))
    kernel_rows(folder)
    thread_rows(folder)
    step_rows(folder)
    decode_rows(folder)
    length_rows(folder)


if __name__ == "__main__":
    main()
