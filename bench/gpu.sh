#!/usr/bin/env bash
# The whole measurement on a machine with a GPU, in parts that each take minutes:
#   tests    the primitives of the emulated device against the real one, then the test suite on cuda
#   kernels  turl bench: every kernel, the ceilings, the page
#   step50   the training step of IResNet-50, batch 256, 85,000 identities, bfloat16, beside PyTorch in turns
#   step100  the same of IResNet-100
# usage: bench/gpu.sh [--dry] [--out DIR] [PART...]   all parts by default; a part that fails does not stop the others.
# --dry runs a small form on the emulated device: nothing it says is a measurement, but everything runs through.
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
[ $# -gt 0 ] || set -- tests kernels step50 step100
mkdir -p "$out"
failed=()

# Runs a command, shows its output and keeps it as OUT/NAME.txt.
run() {
  local name=$1
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}

tests() {
  if [ $dry ]; then run tests env TURL_TEST_DEVICES=$device node scripts/test.mjs autograd/ops/prelu; return; fi
  run primitives build/Release/turl_cuda_device_test
  run tests env TURL_TEST_DEVICES=cpu,cuda node scripts/test.mjs
}

kernels() {
  local small=()
  [ $dry ] && small=(--quick prelu)
  run kernels node bin/turl.js bench "${small[@]}" --device $device --out "$out/kernels"
}

step() {
  local small=()
  [ $dry ] && small=(--set model.name=iresnet-small --set model.input_size=16 --set data.image_size=16 --set data.identities=50
    --set train.batch_size=2 --rounds 1 --steps 1)
  run "step$1" node bin/turl.js bench step "experiments/bench/iresnet$1.yaml" --device $device --peers both --trace "$out/step$1.json" \
    "${small[@]}"
}

nvidia-smi > "$out/nvidia-smi.txt" 2>&1 || [ $dry ] || { echo 'bench/gpu.sh: nvidia-smi finds no GPU' >&2; exit 2; }
for part in "$@"; do
  case $part in
    tests | kernels) $part ;;
    step50 | step100) step "${part#step}" ;;
    *) echo "bench/gpu.sh: expected tests, kernels, step50 or step100, got $part" >&2; exit 2 ;;
  esac
done
echo "== everything is in $out"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
