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

# The largest kernels: registers that two work-groups of 256 can have at once, none of them spilled.
look_at() { # look_at KERNEL TABLE
    grep -A 3 "'$1'" "$2" >$out/one.txt
    if grep -q " 0 bytes spill stores" $out/one.txt; then ok
    else bad "$1 spills registers"; cat $out/one.txt; fi
}

if ! command -v clang >/dev/null || [ -z "$ptxas" ]; then skip "clang or ptxas (CUDA) is not installed"
elif ! clang -print-targets | grep -q nvptx64; then skip "this clang makes no PTX"
elif to_ptx kernels; then
    ok
    for arch in sm_80 sm_90; do
        if "$ptxas" -arch=$arch --maxrregcount=128 -v $out/kernels.ptx -o $out/kernels.cubin >$out/$arch.txt 2>&1; then
            ok
            for kernel in gather_block weight_block; do look_at $kernel $out/$arch.txt; done
        else bad "ptxas -arch=$arch"; head -5 $out/$arch.txt; fi
    done
else bad "clang cannot make PTX of kernels.cl"; head -5 $out/kernels.txt; fi
echo "test_ptx: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
