"""The README's picture from the files of scripts/performance.sh: python3 scripts/performance_picture.py OUT > docs/training-step.svg

Bars of tokens/s of a training step, ours and PyTorch's forms, one group a model (OUT/step-*.json, of several runs the one of the table).
"""
import html
import json
import pathlib
import sys

from performance_table import middle_step

MODELS = [  # title, file
    ("AFT-local-32, 24 x 256, batch 2", "step-enwik8-local-24x256-batch2"),
    ("AFT-local-32, 12 x 512, batch 2", "step-enwik8-local-12x512-batch2"),
    ("AFT-simple, 24 x 256, batch 2", "step-enwik8-simple-24x256-batch2"),
]
WIDTH, LEFT, BAR, GAP = 860, 250, 20, 34
COLOURS = {"aft": "#0b6e4f", "compiled": "#c9772b", "eager": "#e0ab76", "bf16": "#b9b9b9"}


def bars(entries):
    """(label, tokens/s, memory in GB, colour), ours first."""
    for n, e in enumerate(entries):
        form = e["name"].split("/")[-1]
        kind = "aft" if n == 0 else next((k for k in COLOURS if k in form), "eager")
        yield ("aft" if n == 0 else form.split(",")[0]), e["tokens_per_second"], e["peak_memory_bytes"] * 1e-9, COLOURS[kind]


def main():
    folder = pathlib.Path(sys.argv[1])
    found = [(title, entries) for title, name in MODELS if (entries := middle_step(folder, name))]
    if not found:
        sys.exit(f"{folder}: no step-*.json; run scripts/performance.sh {folder} PYTHON steps")
    context = json.loads(next(folder.glob("step-*.json")).read_text())["context"]
    most = max(e["tokens_per_second"] for _, entries in found for e in entries)
    scale = (WIDTH - LEFT - 190) / most
    y, body = 64, []
    text = lambda x, at, words, extra="": body.append(f'<text x="{x}" y="{at}" {extra}>{html.escape(words)}</text>')
    for title, entries in found:
        text(16, y, title, 'font-weight="bold"')
        y += 10
        for label, rate, memory, colour in bars(entries):
            text(LEFT - 8, y + 15, label, 'text-anchor="end"')
            body.append(f'<rect x="{LEFT}" y="{y}" width="{rate * scale:.1f}" height="{BAR - 3}" fill="{colour}"/>')
            text(f"{LEFT + rate * scale + 6:.1f}", y + 14, f"{rate:,.0f} tokens/s, {memory:.1f} GB")
            y += BAR
        y += GAP
    head = f"Training step, T = 1,024: {context['cpu_model']}, {context['limits']['threads']} cores, {context['date'][:10]}; fp32 except where bf16 is said"
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="13">')
    print(f'<rect width="100%" height="100%" fill="white"/>\n<text x="16" y="28" font-size="15">{html.escape(head)}</text>')
    print("\n".join(body) + "\n</svg>")


if __name__ == "__main__":
    main()
