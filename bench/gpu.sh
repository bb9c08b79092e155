#!/bin/sh
# Everything that is measured on a GPU, from the working tree, in at most 8 minutes and without network:
#     sh bench/gpu.sh [FILE]        the table, in the form of bench/OPENCL.md; default build/gpu/OPENCL.md
# Each step has its own limit of seconds; what is missing or too slow is named in the table. Without a
# GPU the steps run on OpenCL's first device, with small sizes: that shows only that they run.
# FINETUNE_DATA: a folder as in tests; where it is, a pretrained ResNet-18 is fine-tuned too.
PYTHON=${PYTHON:-python3}
FINETUNE_DATA=${FINETUNE_DATA:-../shared/data}
cd "$(dirname "$0")/.." || exit 1
out=build/gpu
mkdir -p $out
table=${1:-$out/OPENCL.md}
begin=$(date +%s)
say() { printf '%s\n' "$@" | tee -a "$table"; }
step() { # SECONDS TITLE COMMAND...: its output in the table; status 1: it failed or took too long
    limit=$1 title=$2 log=$out/step.txt
    shift 2
    say "" "## $title" ""
    timeout -k 5 "$limit" "$@" >$log 2>$out/errors.txt
    status=$?
    tee -a "$table" <$log
    [ $status -eq 0 ] && return 0
    grep -q '^skipped' $log && return 1
    if [ $status -eq 124 ]; then say "stopped after its limit of $limit s: $*"
    else say "failed with status $status: $*" "$(tail -3 $out/errors.txt)"; fi
    return 1
}
: >"$table"
say "# OpenCL: matrix products and training beside cuBLAS, CLBlast and PyTorch" "" \
    "\`sh bench/gpu.sh\`; $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi")."

# ---- What is here: CUDA's toolkit brings OpenCL's headers and loader, too ----
cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)" 2>/dev/null)")" 2>/dev/null)}
headers=
if [ -e /usr/include/CL/cl.h ]; then headers=-DFINETUNE_OPENCL
elif [ -e "$cuda/include/CL/cl.h" ]; then headers="-DFINETUNE_OPENCL -I$cuda/include"
elif [ -e "$cuda/targets/x86_64-linux/include/CL/cl.h" ]; then headers="-DFINETUNE_OPENCL -I$cuda/targets/x86_64-linux/include"
fi
[ -d "$cuda/lib64" ] && export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cuda/lib64"
driver=$(ldconfig -p 2>/dev/null | sed -n 's/.*libnvidia-opencl.so.1 .*=> //p' | head -1)
if [ -n "$driver" ] && [ -z "$OCL_ICD_VENDORS" ] && ! ls /etc/OpenCL/vendors/*nvidia* >/dev/null 2>&1; then
    mkdir -p $out/vendors # a driver that no .icd file names
    echo "$driver" >$out/vendors/nvidia.icd
    export OCL_ICD_VENDORS="$PWD/$out/vendors"
fi
export FINETUNE_CACHE=none

# ---- 120 s: build ----
[ -n "$headers" ] || say "" "skipped: OpenCL: no CL/cl.h in /usr/include or in CUDA's toolkit"
timeout -k 5 120 make -s -j4 OPENCL="$headers" build/finetune build/bench_opencl build/bench_gpu build/bench_cublas >$out/build.txt 2>&1 || {
    say "" "the build failed or took more than 120 s:" "$(tail -5 $out/build.txt)"; exit 1; }

devices=$(build/finetune devices 2>/dev/null)
device=$(echo "$devices" | grep '^opencl:' | grep -v 'the processor itself' | head -1 | cut -d: -f1-3)
small=
if [ -z "$device" ]; then
    device=$(echo "$devices" | grep '^opencl:' | head -1 | cut -d: -f1-3)
    small=small
    say "" "skipped: a GPU: OpenCL has none here${device:+; $device, a processor, is used with small sizes}"
fi

# ---- 50 s, 65 s, 65 s, 60 s: OpenCL ----
if [ -n "$device" ]; then
    say "" "$(echo "$devices" | grep "^$device:")"
    step 50 "Every operator (finetune devices --check)" sh -c \
        "build/finetune devices --check --device $device | sed 's/^/    /'"
    step 65 "Products: our kernels and CLBlast" build/bench_opencl "$device" $small
    printf '| finetune.h | ms per step | per second | |\n| --- | --- | --- | --- |\n' >$out/head.txt
    step 65 "Training steps" sh -c "cat $out/head.txt; build/bench_gpu $device ${small:+1}${small:-10} $small"
    weights=$FINETUNE_DATA/weights/resnet18_imagenet.safetensors
    pictures=$FINETUNE_DATA/images/ants_bees
    if [ -n "$small" ]; then say "" "skipped: fine-tuning a pretrained ResNet-18: needs a GPU"
    elif [ -e "$weights" ] && [ -d "$pictures" ]; then
        step 60 "A pretrained ResNet-18 on 244 pictures (finetune train, 3 epochs, all layers)" \
            build/finetune train --model "$weights" --data "$pictures/train" --val "$pictures/val" \
            --epochs 3 --freeze "" --device "$device" --out $out/model.safetensors
    else say "" "skipped: fine-tuning a pretrained ResNet-18: FINETUNE_DATA has no weights or pictures"; fi
else say "" "skipped: OpenCL: no device"; fi

# ---- 20 s, 60 s: CUDA ----
step 20 "Products: cuBLAS" build/bench_cublas
if $PYTHON -c 'import torch' 2>/dev/null; then step 60 "Training steps: PyTorch" $PYTHON bench/peer_gpu.py 8
else say "" "skipped: PyTorch: $PYTHON has no torch"; fi
say "" "$(($(date +%s) - begin)) s in all."
