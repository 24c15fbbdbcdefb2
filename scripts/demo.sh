#!/usr/bin/env bash
# The demo: trains a small AFT-local model for about two minutes, evaluates it on the held-out split and lets it write.
# DATA=path takes any file; without it the text is the project's own sources and docs.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
out=${OUT:-$build/demo}
data=${DATA:-}
rm -rf "$out"
mkdir -p "$out"
if [ -z "$data" ]; then
    data=$out/text.txt
    git ls-files -z 2>/dev/null | grep -zE '\.(h|cpp|cmake|md|txt|toml|sh)$' | sort -z | xargs -0 cat > "$data" ||
        find . -path './build*' -prune -o -path ./.venv -prune -o -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.md' \) -print0 | sort -z | xargs -0 cat > "$data"
fi
echo "== training on $data"
"$build/aft" train --preset demo-local --data "$data" --out "$out/run"
echo "== held-out split"
"$build/aft" eval --model "$out/run" --data "$data" --split test
echo "== 400 bytes"
"$build/aft" generate --model "$out/run" --prompt "// " --tokens 400 --temperature 0.7 --seed 1 --echo
echo
