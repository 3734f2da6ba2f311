#!/usr/bin/env bash
# The whole measurement on a machine with a GPU, in parts that each take minutes, the most wanted first:
#   primitives  what the emulated device promises, against the real one (half a minute)
#   tests       the test suite on cuda, and beside it PyTorch compiles the steps below, which takes a minute or two each: its cache keeps them
#   step50      the training step of IResNet-50, batch 256, 85,000 identities, bfloat16, beside PyTorch in turns
#   variants50  the same without PyTorch, in turns: as it is, with what has run on the emulated device only (TURL_CUDA_NOT_TIMED=early,
#               phases, turned, and all of them), and with the turl_cuda.so of another commit, if TURL_BEFORE names the folder that it is in
#   counters50  what Nsight Compute says of every kernel of one step of it, as bench/gpu keeps it; with TURL_CUDA_NOT_TIMED if that is set
#   step100, stepmobile   the steps of IResNet-100 and MobileFaceNet beside PyTorch; variantsmobile as variants50, with `ones` too
#   kernels     turl bench: every kernel, the ceilings, the page
# usage: bench/gpu.sh [--dry] [--out DIR] [PART...]   all parts by default; a part that fails does not stop the others.
# --dry runs a small form on the emulated device: nothing it says is a measurement, but everything runs through.
# Where there is no node, it runs from the archive that `npm run bundle` made in bundle/. PyTorch: $TURL_PYTHON or python3.
set -uo pipefail
cd "$(dirname "$0")/.."
device=cuda out=gpu-measurement dry=
while [[ ${1-} == --* ]]; do
  case $1 in
    --dry) dry=yes device=emulated; shift ;;
    --out) out=$2; shift 2 ;;
    *) echo "bench/gpu.sh: expected --dry or --out DIR, got $1" >&2; exit 2 ;;
  esac
done
[ $# -gt 0 ] || set -- primitives tests step50 variants50 counters50 step100 stepmobile variantsmobile kernels
mkdir -p "$out"
out=$(cd "$out" && pwd)
before=${TURL_BEFORE:+$(cd "$TURL_BEFORE" && pwd)}
failed=()
if ! command -v node > /dev/null; then
  archive=$(ls bundle/turl-*.tar.xz 2> /dev/null | tail -n 1)
  [ "$archive" ] || { echo 'bench/gpu.sh: expected node, or an archive in bundle/ (npm run bundle)' >&2; exit 2; }
  house=$(mktemp -d)
  trap 'rm -rf "$house"' EXIT
  tar -xf "$archive" -C "$house"
  cd "$house/turl" && export PATH=$PWD:$PATH
fi

# Runs a command, shows its output and keeps it as OUT/NAME.txt.
run() {
  local name=$1
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}

primitives() {
  [ $dry ] || run primitives build/Release/turl_cuda_device_test
}

tests() {
  if [ $dry ]; then run tests env TURL_TEST_DEVICES=$device node scripts/test.mjs autograd/ops/prelu; return; fi
  for model in iresnet50 iresnet100; do step $model --peers both --rounds 1 --steps 1 > "$out/compiled-$model.txt" 2>&1 & done
  run tests env TURL_TEST_DEVICES=cpu,cuda node scripts/test.mjs
  wait
}

kernels() {
  local small=()
  [ $dry ] && small=(--quick prelu)
  run kernels node bin/turl.js bench "${small[@]}" --device $device --out "$out/kernels"
}

# The step of an experiment of experiments/bench; the other arguments are options.
step() {
  local small=() config=experiments/bench/$1.yaml
  shift
  [ $dry ] && small=(--set model.name=iresnet-small --set model.input_size=16 --set data.image_size=16 --set data.identities=50
    --set train.batch_size=2 --rounds 1 --steps 1)
  node bin/turl.js bench step "$config" --device $device --set precision=bfloat16 "$@" "${small[@]}"
}

# A model with each of what TURL_CUDA_NOT_TIMED may name, in turns.
variants() {
  local model=$1 variant ways=()
  for variant in "${@:2}"; do ways+=("TURL_CUDA_NOT_TIMED=$variant"); done
  [ -z "$before" ] || ways+=("TURL_BACKEND_DIR=$before")
  step "$model" --set train.batch_size=256 --rounds 8 --steps 5 "${ways[@]/#/--against=}"
}

# Of the launches that follow some of the first step those of more than a whole one.
counters() {
  if ! command -v ncu > /dev/null; then echo 'bench/gpu.sh: counters50 wants ncu (Nsight Compute)' >&2; return 1; fi
  local metrics=gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum
  ncu --clock-control none --cache-control none --metrics $metrics --csv --page raw --launch-skip 500 --launch-count 1000 \
    --log-file "$out/ncu.csv" node bin/turl.js bench step experiments/bench/iresnet50.yaml --device $device --rounds 1 --steps 1 &&
    node bench/gpu/kernels.mjs "$out/ncu.csv" "$out/iresnet50"
}

nvidia-smi > "$out/nvidia-smi.txt" 2>&1 || [ $dry ] || { echo 'bench/gpu.sh: nvidia-smi finds no GPU' >&2; exit 2; }
for part in "$@"; do
  case $part in
    primitives | tests | kernels) $part ;;
    step50 | step100) run "$part" step "iresnet${part#step}" --peers both --trace "$out/$part.json" ;;
    stepmobile) run "$part" step mobilefacenet --set train.batch_size=256 --peers both --trace "$out/$part.json" ;;
    variants50) run variants50 variants iresnet50 early phases turned early,phases,turned ;;
    variantsmobile) run variantsmobile variants mobilefacenet early ones,turned early,ones,phases,turned ;;
    counters50) [ $dry ] || run counters50 counters ;;
    *) echo "bench/gpu.sh: expected primitives, tests, step50, variants50, counters50, step100, stepmobile, variantsmobile or kernels, got $part" >&2; exit 2 ;;
  esac
done
echo "== everything is in $out"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
