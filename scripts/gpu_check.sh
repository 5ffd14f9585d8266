#!/usr/bin/env bash
# Check normbench on a machine with a GPU, in one command and without a network: the GPU tests, the benchmarks, and a short
# table at the end. Every model and batch size is a step of its own. Its results are written when it ends, and copied to
# --out. A step that has succeeded is not repeated, so an interrupted check can go on. The time limits leave room for
# compilers.
#
#   scripts/gpu_check.sh bundle [DIR]    on a machine with a network: collect wheels and data (default: gpu_bundle/)
#   scripts/gpu_check.sh [DIR] [--out FOLDER] [--rehearse]
#
# DIR holds wheels/ and data.tar.gz. The wheels are the packages that the machine's own Python lacks; it must have torch and
# torchvision, but neither pip nor ensurepip. data.tar.gz holds the content of NORMBENCH_DATA. --out copies the results into a folder. --rehearse runs a
# small version of every step on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

bundle() {
    local target=${1:-gpu_bundle}
    mkdir -p "$target/wheels"
    # antlr4 exists only as source; the other wheels are for the Python of the GPU machine
    python3 -m pip wheel --quiet --no-deps --wheel-dir "$target/wheels" antlr4-python3-runtime==4.9.3
    python3 -m pip download --quiet --only-binary=:all: --python-version "${GPU_PYTHON:-3.12}" --find-links "$target/wheels" \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --dest "$target/wheels" \
        'hydra-core>=1.3.2,<1.4' 'omegaconf>=2.3,<2.4' 'wandb>=0.19.11' 'pydantic>=2.7' 'pytest-xdist>=3.6'
    tar -C "${NORMBENCH_DATA:?set NORMBENCH_DATA to the folder with the data sets}" -czf "$target/data.tar.gz" .
    local bytes
    bytes=$(stat -c %s "$target/data.tar.gz")
    if [ "$bytes" -ge $((64 * 1024 * 1024)) ]; then
        echo "gpu_check: data.tar.gz must be smaller than 64 MiB; it has $((bytes / 1024 / 1024)) MiB. Name a folder with fewer" \
            "data sets in NORMBENCH_DATA" >&2
        exit 2
    fi
    du -sh "$target"
}

if [ "${1:-}" = bundle ]; then
    shift
    bundle "$@"
    exit
fi

bundled=gpu_bundle out= device=cuda
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift ;;
        --rehearse) device=cpu ;;
        -*) echo "gpu_check: unknown option $1; the options are --out FOLDER and --rehearse" >&2; exit 2 ;;
        *) bundled=$1 ;;
    esac
    shift
done

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
state=results/cache/gpu_check/$commit-$device
mkdir -p "$state/results/bench"
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} NORMBENCH_RESULTS=$PWD/$state/results WANDB_MODE=disabled

python=$state/venv/bin/python
if [ ! -e "$state/venv/.ready" ]; then
    python3 -m venv --system-site-packages --without-pip "$state/venv"
    # if python3 is in a virtual environment, use the packages of that environment too
    python3 -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
        > "$("$python" -c 'import site; print(site.getsitepackages()[0])')/machine.pth"
    if [ -d "$bundled/wheels" ]; then
        # a wheel is an archive; a package that the machine already has is left out
        "$python" - "$bundled/wheels" <<'PYTHON'
import site
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    try:
        distribution(wheel.name.partition("-")[0])
    except PackageNotFoundError:
        zipfile.ZipFile(wheel).extractall(site.getsitepackages()[0])
PYTHON
    fi
    touch "$state/venv/.ready"
fi
if [ -z "${NORMBENCH_DATA:-}" ] && [ -e "$bundled/data.tar.gz" ]; then
    mkdir -p "$state/data"
    tar -C "$state/data" -xzf "$bundled/data.tar.gz" --skip-old-files
    export NORMBENCH_DATA=$PWD/$state/data
fi
if [ $device = cuda ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu_check: this machine has no CUDA device; --rehearse runs a small version of every step on the CPU" >&2
    exit 2
fi

publish() { # copy what there is to --out
    [ -n "$out" ] || return 0
    mkdir -p "$out"
    cp "$state"/*.log "$out"
    cp "$state"/results/bench/* "$out" 2>/dev/null || true
}

names=()
step() { # name, limit in seconds, command…
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    names+=("$name")
    if [ -e "$state/$name.ok" ]; then
        echo "$name: done before"
        return
    fi
    if timeout "$limit" "$@" > "$state/$name.log" 2>&1; then
        echo "$((SECONDS - began))" > "$state/$name.ok"
        echo "$name: done in $((SECONDS - began)) s"
    else
        echo "$name: FAILED (exit code $?) after $((SECONDS - began)) s; the end of $state/$name.log:"
        tail -n 25 "$state/$name.log"
    fi
    publish
}

bench() { # name, then the options and words of bench
    local name=bench-$1
    shift
    step "$name" 420 "$python" -m normbench bench --device $device --json "$state/results/bench/$name.json" "$@"
}

# the two sides of the comparison at batch 128 have the same precision, memory format and compiler
tuned=(engine.precision=bf16 engine.layout=channels_last engine.compile=true)
if [ $device = cuda ]; then
    step tests 600 "$python" -m pytest -m gpu -p no:cacheprovider tests
    for model in lenet5 resnet20; do
        for batch in 2 32; do
            bench $model-$batch --models $model --batches $batch --lanes 1,16,64,256 --seconds 1 --rounds 3
        done
    done
    bench resnet18-fp32 --models resnet18 --batches 128 --lanes 1 --seconds 2 --rounds 3
    bench resnet18-tuned --models resnet18 --batches 128 --lanes 1 --seconds 2 --rounds 3 "${tuned[@]}"
    for norm in iternorm evonorm_s0; do # docs/decisions/016 says what these two decide
        long=(--models lenet5 --batches 2 --lanes 1,64 --seconds 1 --rounds 3 norm=$norm)
        bench $norm-captured "${long[@]}"
        bench $norm-compiled "${long[@]}" engine.compile=true
    done
    step train 300 "$python" -m normbench train model=lenet5 data=mnist norm=bn,gn batch=2,32 'seed=range(16)' steps=2000 tracking=none
else
    step tests 600 "$python" -m pytest -p no:cacheprovider tests/engine/test_graph.py tests/engine/test_scaling.py
    bench mlp-2 --models mlp --batches 2 --lanes 1,8 --seconds 0.5 --rounds 1
    bench mlp-tuned --models mlp --batches 8 --lanes 1 --seconds 0.5 --rounds 1 "${tuned[@]:0:2}"
    step train 300 "$python" -m normbench train model=lenet300 data=digits norm=bn,gn batch=2,32 'seed=range(4)' steps=200 tracking=none
fi
step tables 60 "$python" -m normbench table --rows norm --cols batch --format md

echo
echo "normbench $commit · $("$python" -c "import torch; print('torch', torch.__version__, '·', torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')")"
grep -hE '[0-9]+ (passed|failed)' "$state/tests.log" | tail -n 1 || true
for log in "$state"/bench-*.log; do
    echo "${log##*/}"
    sed -n '/^model/,/^$/p' "$log"
done
cat "$state/tables.log"
for name in "${names[@]}"; do
    [ -e "$state/$name.ok" ] || { echo "NOT DONE: $name"; failed=1; }
done
exit ${failed:-0}
