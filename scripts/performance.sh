#!/bin/bash
# The measurements behind docs/performance.md, on a quiet machine: scripts/performance.sh OUT [PYTHON with PyTorch]
set -euo pipefail
out=${1:?usage: scripts/performance.sh OUT [PYTHON]}
python=${2:-python3}
aft=$(dirname "$0")/../build/aft
mkdir -p "$out"
"$aft" bench --threads 1 --output "$out/kernels.json" --plot "$out/roofline.svg" | tee "$out/kernels.txt"
"$aft" bench --filter 'gemm_*' --output "$out/gemm-all-threads.json" | tee "$out/gemm-all-threads.txt"
for preset in enwik8-local-24x256 enwik8-local-12x512 enwik8-simple-24x256; do
    "$aft" bench step --preset $preset --batch 2 --peer torch --peer-python "$python" --output "$out/step-$preset.json" | tee "$out/step-$preset.txt"
done
"$aft" bench step --preset enwik8-local-24x256 --batch 8 --samples 3 --output "$out/step-batch8.json" | tee "$out/step-batch8.txt"
"$aft" bench decode --preset enwik8-local-24x256 --batch 1 64 --output "$out/decode.json" | tee "$out/decode.txt"
