#!/bin/sh
# kernels.cl as NVIDIA's GPUs would have it: compiled to PTX by clang and assembled by NVIDIA's own
# assembler, which refuses a wrong instruction, and tells the registers: none may be spilled where the
# speed depends on them. A driver's compiler is another one; this needs no GPU.
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
out=build/ptx
mkdir -p $out
ptxas=$(command -v ptxas || ls /usr/local/cuda/bin/ptxas 2>/dev/null)

to_ptx() { # to_ptx NAME OPTION...
    name=$1; shift
    clang -x cl -cl-std=CL1.2 -cl-no-stdinc -I"$(clang -print-resource-dir)/include" -O2 -S "$@" \
        --target=nvptx64-nvidia-nvcl -Xclang -target-cpu -Xclang sm_80 -Xclang -target-feature \
        -Xclang +ptx70 -include tests/ptx.cl kernels.cl -o $out/$name.ptx 2>$out/$name.txt
}

# The largest kernels: of registers as many as two work-groups of 256 can have at once, sums in
# registers altogether (a stack frame would hold an array that was not unrolled), and no more of the
# rest spilled than a loop's limits.
look_at() { # look_at KERNEL TABLE
    grep -A 3 "'$1'" "$2" >$out/one.txt
    frame=$(sed -n 's/^ *\([0-9]*\) bytes stack frame.*/\1/p' $out/one.txt)
    if [ -n "$frame" ] && [ "$frame" -le 32 ]; then ok
    else bad "$1 keeps numbers in memory that belong in registers"; cat $out/one.txt; fi
}

assemble() { # assemble NAME KERNEL...
    name=$1; shift
    for arch in sm_80 sm_90; do
        if "$ptxas" -arch=$arch --maxrregcount=128 -v $out/$name.ptx -o $out/$name.cubin >$out/$name.$arch.txt 2>&1; then
            ok
            for kernel; do look_at $kernel $out/$name.$arch.txt; done
        else bad "ptxas -arch=$arch"; head -5 $out/$name.$arch.txt; fi
    done
}

if ! command -v clang >/dev/null || [ -z "$ptxas" ]; then skip "clang or ptxas (CUDA) is not installed"
elif ! clang -print-targets | grep -q nvptx64; then skip "this clang makes no PTX"
else
    if to_ptx kernels; then
        ok
        assemble kernels gather_block weight_block winograd_input winograd_weight winograd_output
    else bad "clang cannot make PTX of kernels.cl"; head -5 $out/kernels.txt; fi
    if to_ptx tensor -DFINETUNE_MMA; then
        assemble tensor gather_tf32 weight_tf32 gather_bf16 weight_bf16
        grep -q 'mma.sync.aligned.m16n8k8.row.col.f32.tf32' $out/tensor.ptx && ok || bad "no products in tf32"
        grep -q 'mma.sync.aligned.m16n8k16.row.col.f32.bf16' $out/tensor.ptx && ok || bad "no products in bf16"
    else bad "clang cannot make PTX of the kernels for tensor cores"; head -5 $out/tensor.txt; fi
fi
echo "test_ptx: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
