#!/bin/bash
# The measurements behind docs/performance.md, on a machine that does nothing else (about 40 minutes):
#   scripts/performance.sh OUT [PYTHON with PyTorch] [STAGE ...]
# Each stage writes OUT/NAME.json (Google Benchmark's form) and the program's own table; when it is run again, NAME.2.json and so on.
# At the end OUT/table.md is made of all runs that are there. Stages: kernels threads steps decode lengths (default: all).
# AFT names the program (default: build/aft).
set -euo pipefail
out=${1:?usage: scripts/performance.sh OUT [PYTHON] [STAGE ...]}
python=${2:-python3}
stages=${*:3}
here=$(dirname "$0")
aft=${AFT:-$here/../build/aft}
mkdir -p "$out"

run() {  # NAME, then the arguments of aft bench
    local name=$1 again=2
    shift
    if [[ -e $out/$name.json ]]; then
        while [[ -e $out/$name.$again.json ]]; do again=$((again + 1)); done
        name=$name.$again
    fi
    echo "== $name: aft bench $*" >&2
    "$aft" bench "$@" --output "$out/$name.json" | tee "$out/$name.txt"
}
wanted() { [[ -z $stages || " $stages " == *" $1 "* ]]; }
peer=(--peer torch --peer-python "$python")
forms=eager,compiled
if grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then forms+=,bf16; fi  # elsewhere PyTorch makes it of fp32, many times slower

# One core: every kernel beside PyTorch on the same core, and the roofline of them.
if wanted kernels; then
    run kernels --threads 1 --min-time 0.1 --shapes speed-table "${peer[@]}" --peer-forms $forms,formula --plot "$out/roofline.svg"
fi
# The products on two cores, in turn with one.
if wanted threads; then
    run gemm-2 --threads 2 --scaling --filter 'gemm_*' --shapes speed-table
fi
# Whole training steps on two cores; a process each, so that memory is that of one model.
if wanted steps; then
    for preset in enwik8-local-24x256 enwik8-local-12x512 enwik8-simple-24x256; do
        run "step-$preset-batch2" step --threads 2 --preset $preset --batch 2 "${peer[@]}" --peer-forms $forms
    done
    for preset in enwik8-local-24x256 enwik8-local-12x512; do
        run "step-$preset-batch8" step --threads 2 --preset $preset --batch 8 --samples 5 "${peer[@]}" --peer-forms eager,compiled
    done
fi
# Decoding and the start-up.
if wanted decode; then
    run decode decode --threads 2 --preset enwik8-local-24x256 --batch 1 64
fi
# Time per token against the length of a sequence.
if wanted lengths; then
    run lengths --threads 2 --samples 5 --shapes long-sequences
fi
python3 "$here/performance_table.py" "$out" > "$out/table.md"
echo "table: $out/table.md" >&2
