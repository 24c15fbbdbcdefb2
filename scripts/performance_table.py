"""Markdown of docs/performance.md from the files of scripts/performance.sh: python3 scripts/performance_table.py OUT

A row of the table is a name pattern in one file, and what is wanted of it. Rows without a measurement say so. Of several runs
(NAME.json, NAME.2.json, ...) a row is that of the run in the middle, by what is wanted of it; the last column has the range of all.
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


def runs(folder, name):
    """The benchmarks of each run of a stage."""
    paths = [folder / f"{name}.json", *sorted(folder.glob(f"{name}.[0-9]*.json"))]
    return [json.loads(path.read_text())["benchmarks"] for path in paths if path.exists()]


def middle(results, key):
    """Of the results of all runs the one in the middle (the lower of two)."""
    return sorted(results, key=key)[(len(results) - 1) // 2]


def span(values, form):
    """From the least to the most of what all runs gave: '-' for one run."""
    return f"{form(min(values))} to {form(max(values))}" if len(values) > 1 else "-"


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


def best_ratio(entry, forms):
    """PyTorch's time in its fastest of these forms over ours."""
    known = [entry[f"torch_{form}_time"] for form in forms if f"torch_{form}_time" in entry]
    return min(known) / entry["real_time"] if known else None


def figures(found, figure):
    """What a row says of the measurements `found` of one run."""
    ratios = [r for e in found if (r := best_ratio(e, GENERAL)) is not None]
    of_form = {form: [r for e in found if (r := best_ratio(e, (form,))) is not None] for form in ("bf16", "formula")}
    f = {
        "found": found,
        "ratios": ratios,
        "ratio": statistics.median(ratios) if ratios else None,
        "share": statistics.median(e["share_of_limit"] for e in found),
        **{form: statistics.median(all_of) if all_of else None for form, all_of in of_form.items()},
    }
    value = f[figure]
    return {**f, "value": value and round(value, 3 if figure == "share" else 2)}  # as it is printed


def kernel_rows(folder):
    measured = runs(folder, "kernels")
    print("\n## Kernels, one core\n")
    head("kernel", "time", "spread", "limit", "share of it", "PyTorch", "ratio", "over bf16", "over the formula", "wanted", "reached", "in all runs")
    for title, patterns, wanted in KERNELS:
        figure, least = wanted or ("share", None)
        chosen = [[e for e in entries if any(fnmatch.fnmatch(e["name"], p) for p in patterns.split("|"))] for entries in measured]
        results = [figures(found, figure) for found in chosen if found]
        if not results:
            row(title, "not measured", *["-"] * 10)
            continue
        f = middle(results, lambda r: r["value"] or 0)
        found, ratio, share = f["found"], f["ratio"], f["share"]
        worst = f" (least {min(f['ratios']):.2f})" if len(f["ratios"]) > 1 else ""
        peer = f"{time_of(ratio * found[0]['real_time'])}" if ratio and len(found) == 1 else "-"
        note = next((e[k] for e in found for k in e if k.endswith("_note")), "")
        form = percent if figure == "share" else lambda x: f"{x:.2f} x"
        row(title, time_of(found[0]["real_time"]) if len(found) == 1 else f"{len(found)} shapes", percent(max(e["spread"] for e in found)), "/".join(sorted({e["limited_by"] for e in found})),
            percent(share), peer + (f" ({note})" if note else ""), f"{ratio:.2f} x{worst}" if ratio else "-", *(f"{f[x]:.2f} x" if f[x] else "-" for x in ("bf16", "formula")),
            "-" if not wanted else percent(least) if figure == "share" else f"{least} x" + (" the formula" if figure == "formula" else ""), verdict(f["value"], least),
            span([r["value"] for r in results if r["value"]] or [0], form))
    pairs, conv = {}, {}
    for e in (e for entries in measured for e in entries if e["name"].startswith("aft_")):
        for way in ("forward", "backward"):
            if f"_{way}/" in e["name"]:
                pairs.setdefault(e["name"].replace(f"_{way}/", "/"), {}).setdefault(way, []).append(e["real_time"])
        if e["name"].startswith("aft_conv_"):
            conv.setdefault(e["name"], []).append(e["real_time"] / elements(e["name"]))
    print("\nAFT-conv, ns per element of [B, T, C]: " + ("; ".join(f"`{n}` {statistics.median(all_of):.2f}" for n, all_of in conv.items()) or "not measured") + ".")
    print("\nBackward over forward: " + ("; ".join(f"`{n}` {statistics.median(b / f for b, f in zip(p['backward'], p['forward'])):.2f}" for n, p in pairs.items() if len(p) == 2) or "not measured") + ".")


def thread_rows(folder):
    results = [gains for entries in runs(folder, "gemm-2") if (gains := [e["scaling"] for e in entries if "scaling" in e])]
    gains = middle(results, statistics.median) if results else []
    text = f"median {statistics.median(gains):.2f}, least {min(gains):.2f}" if gains else "not measured"
    if len(results) > 1:
        text += f", the median of all runs {span([statistics.median(g) for g in results], '{:.2f}'.format)}"
    print(f"\nProducts, two cores over one: {text} (wanted: 1.9).")


def rival(entries):
    """PyTorch's best fp32 form over ours."""
    return min((e["time_over_ours"] for e in entries[1:] if "bf16" not in e["name"]), default=None)


def middle_step(folder, name):
    """The entries of the run in the middle, ours first."""
    least_ratio = next(least for _, file, least, _ in STEPS if file == name)
    measured = runs(folder, name)
    return middle(measured, lambda run: (rival(run) or 0) if least_ratio else run[0]["model_flops_utilisation"]) if measured else []


def step_rows(folder):
    print("\n## Training steps, fp32, two cores\n")
    head("model", "form", "tokens/s", "spread", "FMA peak used", "peak memory", "we are faster by", "wanted", "reached", "in all runs")
    for title, name, least_ratio, least_share in STEPS:
        measured = runs(folder, name)
        if not measured:
            row(title, "not measured", *["-"] * 8)
            continue
        entries = middle_step(folder, name)
        ratio = rival(entries)
        for n, e in enumerate(entries):
            ours = n == 0
            share = e["model_flops_utilisation"]
            wanted = [f"{least_ratio} x" if least_ratio else "", percent(least_share) if least_share else ""]
            reached = [verdict(ratio, least_ratio), verdict(share, least_share)]
            ranges = [span([r for run in measured if (r := rival(run))] or [0], "{:.2f} x".format), span([run[0]["model_flops_utilisation"] for run in measured], percent)]
            row(title if ours else "", e["name"].split("/")[-1], f"{e['tokens_per_second']:.0f}", percent(e["spread"]), percent(share), f"{e['peak_memory_bytes'] * 1e-9:.2f} GB",
                "-" if ours else f"{e['time_over_ours']:.2f} x", ", ".join(w for w in wanted if w) if ours else "", ", ".join(r for r in reached if r != "-") if ours else "",
                ", ".join(ranges) if ours and len(measured) > 1 else "")
        eager = next((e for e in entries[1:] if "eager" in e["name"]), None)
        if eager:
            part = entries[0]["peak_memory_bytes"] / eager["peak_memory_bytes"]
            wanted = 0.5 if "24x256" in name else None
            row("", "memory over eager's", "", "", "", percent(part), "", percent(wanted), "-" if wanted is None else "yes" if part <= wanted else "no", "")


def decode_rows(folder):
    print("\n## Decoding, 24x256, two cores\n")
    head("what", "tokens/s", "of a sequence", "share of its limit", "FMA peak used", "wanted", "reached", "in all runs")
    by_name = {}
    for entries in runs(folder, "decode"):
        for e in entries:
            by_name.setdefault(e["name"], []).append(e)
    if not by_name:
        row("not measured", *["-"] * 7)
    for name, results in by_name.items():
        if name.startswith("startup/"):
            e = middle(results, lambda e: e["real_time"])
            row("start-up to the first token", f"{e['real_time'] * 1e-9:.3f} s", "-", "-", "-", "0.3 s", "yes" if e["real_time"] < 0.3e9 else "no", span([e["real_time"] * 1e-9 for e in results], "{:.3f} s".format))
            continue
        single = name.endswith("batch:1")
        figure, least = ("share_of_limit", 0.8) if single else ("share_of_fma_peak", 0.5)
        e = middle(results, lambda e: e[figure])
        row(name, f"{e['tokens_per_second']:.0f}", f"{e['tokens_per_second_of_a_sequence']:.1f}", f"{percent(e['share_of_limit'])} of {e['limited_by']}", percent(e["share_of_fma_peak"]),
            f"{percent(least)} of {'the limit' if single else 'FMA'}", verdict(e[figure], least), span([e[figure] for e in results], percent))


# One sequence of each length; and as many tokens at each length, where the batch of short ones shares what is made once for all
# sequences (AFT-local's table of biases).
def length_rows(folder):
    print("\n## Time per token against the length, two cores, C = 256\n")
    head("operator", "sequences", "T", "ns per token, forward", "backward", "forward + backward", "over T = 1,024", "wanted", "in all runs")
    measured = [per_token(entries) for entries in runs(folder, "lengths")]
    for key in sorted(set().union(*measured)):
        operator, same_tokens, T = key
        results = [(found[key], sum(found[key].values()) / sum(found[operator, same_tokens, 1024].values()) - 1) for found in measured
                   if len(found.get(key, {})) == len(found.get((operator, same_tokens, 1024), {})) == 2]
        if not results:
            continue
        times, change = middle(results, lambda result: result[1])
        within = "-" if T == 1024 else f"within {100 * FLAT:.0f} %: {'no' if change > FLAT else 'yes' if change >= -FLAT else 'less'}"
        row(operator, TOKENS // T if same_tokens else 1, f"{T:,}", f"{times['forward']:.0f}", f"{times['backward']:.0f}", f"{sum(times.values()):.0f}", f"{100 * change:+.1f} %", within,
            "-" if T == 1024 else span([change for _, change in results], "{:+.1%}".format))
    if not measured:
        row("not measured", *["-"] * 8)


def per_token(entries):
    """ns by (operator, as many tokens at each length?, T) and by way."""
    found = {}
    for e in entries:
        kernel, *letters = e["name"].split("/")
        shape = {k: int(v) for k, v in (x.split(":") for x in letters)}
        operator, way = kernel.rsplit("_", 1)
        for same_tokens in ([False] if shape["B"] == 1 else []) + ([True] if shape["B"] * shape["T"] == TOKENS else []):
            found.setdefault((operator, same_tokens, shape["T"]), {})[way] = e["real_time"] / (shape["B"] * shape["T"])
    return found


def main():
    folder = pathlib.Path(sys.argv[1])
    contexts = [c for p in sorted(folder.glob("*.json")) if (c := json.loads(p.read_text())["context"])]
    if not contexts:
        sys.exit(f"{folder}: no measurements; run scripts/performance.sh {folder}")
    dates = sorted(c["date"] for c in contexts)
    print(f"Measured {dates[0]} to {dates[-1]} on {contexts[0]['cpu_model']}, aft {contexts[0]['aft_version']}, table {contexts[0]['limits']['target']}; "
          f"other programs used {max(c['cpus_used_by_others'] for c in contexts):.2f} CPUs at most.\n")
    head("limit", *(f"{n} thread{'s' if n > 1 else ''}" for n in (1, 2)))

    def best(threads, *keys):
        known = [value[keys[-1]] for c in contexts if c["limits"]["threads"] == threads for value in [c["limits"] if len(keys) == 1 else c["limits"][keys[0]]]]
        return f"{max(known) * 1e-9:.0f}" if known else "-"

    row("FMA, GFLOP/s", *(best(n, "fma_flops_per_second") for n in (1, 2)))
    for level in ("L1", "L2", "L3", "DRAM"):
        row(f"{level} read / copy / 3r1w / in place, GB/s", *(" / ".join(best(n, level, f"{k}_bytes_per_second") for k in ("read", "copy", "three_reads_one_write", "update")) for n in (1, 2)))
    kernel_rows(folder)
    thread_rows(folder)
    step_rows(folder)
    decode_rows(folder)
    length_rows(folder)


if __name__ == "__main__":
    main()
