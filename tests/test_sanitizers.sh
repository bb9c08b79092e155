#!/bin/sh
# Whole training runs, every reader and every SIMD kernel under AddressSanitizer and
# UndefinedBehaviorSanitizer, and runs in several threads under ThreadSanitizer; the other tests run
# without them, for speed. At -O0, where every access that is written is made and watched: the
# compiler takes 10 seconds, at -O1 25, and the runs are short. With the kernels for SIMD it takes 45,
# at -O1 86: they are in the library that tests of public functions link. LONG=1: all of those tests,
# clang's sanitizers too, which see more, a minute for each reader, and failing devices.
passed=0 failed=0 skipped=0
out=build/sanitizers
mkdir -p $out

# try NAME COMMAND...: the command must succeed
try() {
    name=$1; shift
    if "$@" >$out/log.txt 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name: $*"; head -20 $out/log.txt; fi
}
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }

watched="test_fit test_formats test_levels"
[ -z "$LONG" ] || watched=$(grep -L 'internals.h"\|test_operators.c"\|FINETUNE_IMPLEMENTATION' tests/test_*.c |
    sed 's/^tests.//; s/\.c$//' | grep -v accuracy)

# tests/fuzz/driver.c looks at what an input reaches; other programs need not.
printf 'void __sanitizer_cov_trace_pc(void);\nvoid __sanitizer_cov_trace_pc(void) {}\n' >$out/unseen.c
watch() { # COMPILER FLAGS...: the readers, the kernels and whole runs
    compiler=$1; shift
    try "the library under $compiler's sanitizers builds" $compiler -std=c99 "$@" -fsanitize-coverage=trace-pc -I. -c tests/fuzz/library.c -o $out/library.o
    for test in $watched; do
        try "$test under $compiler's sanitizers builds" $compiler -std=c99 "$@" -I. tests/$test.c $out/library.o $out/unseen.c -o $out/$test -lm -pthread
        try "$test under $compiler's sanitizers" env FINETUNE_QUICK=1 $out/$test
    done
    try "the fuzzer builds" $compiler -std=c99 "$@" -I. tests/fuzz/driver.c tests/fuzz/mutate.c tests/fuzz/targets.c $out/library.o -o $out/fuzz -lm -pthread
    for target in $($out/fuzz); do
        case $target in
        graph) runs=250 ;; safetensors | picture | keras | numpy | onnx) runs=500 ;; checkpoint) runs=700 ;; *) runs=2000 ;;
        esac
        [ -n "$LONG" ] && stop="-seconds 60 -seed $(date +%s)" || stop="-runs $runs"
        # What brought it down stays in NAME.input: `fuzz TARGET -runs 0 NAME.input` shows it again.
        try "$target on changed files" env ASAN_OPTIONS=max_allocation_size_mb=512 $out/fuzz "$target" $stop -input "$out/$target.input" $(ls -d tests/fuzz/corpus/"$target"/* $([ "$target" = pytorch ] && ls tests/golden/formats/*.pt) $([ "$target" = numpy ] && ls tests/golden/formats/*.np[yz]) 2>/dev/null)
    done
}

sanitizers="-g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
works() { echo 'int main(void){return 0;}' | "$@" -x c - -o $out/works 2>/dev/null && $out/works; }
if works ${CC:-cc} $sanitizers; then
    watch ${CC:-cc} -O0 $sanitizers
    try "test_data under ASan and UBSan builds" ${CC:-cc} -std=c99 -O0 $sanitizers -DFINETUNE_NO_SIMD -I. tests/test_data.c -o $out/test_data -lm -pthread
    try "test_data under ASan and UBSan" env FINETUNE_QUICK=1 $out/test_data
    if [ -z "$LONG" ]; then :
    elif [ -e build/fake_opencl.so ]; then # what drivers leak is theirs
        try "test_opencl_failures under ASan and UBSan builds" ${CC:-cc} -std=c99 -O0 $sanitizers -DFINETUNE_NO_SIMD -DFINETUNE_OPENCL -I. tests/test_opencl_failures.c -o $out/test_opencl_failures -lm -pthread
        try "test_opencl_failures under ASan and UBSan" env ASAN_OPTIONS=detect_leaks=0 $out/test_opencl_failures
    else skip "built without OpenCL's headers"; fi
else skip "the sanitizers' run-time libraries are not installed"; fi
if [ -n "$LONG" ]; then
    if works clang $sanitizers; then
        watch clang -O1 $sanitizers
        undefined="-O1 -g1 -fsanitize=undefined -fno-sanitize-recover=all"
        for test in test_operators test_gemm test_golden; do
            try "$test under clang's UBSan builds" clang -std=c99 $undefined -I. tests/$test.c -o $out/$test -lm -pthread
            try "$test under clang's UBSan" $out/$test
        done
    else skip "clang or its sanitizers are not installed"; fi
fi
if works ${CC:-cc} -fsanitize=thread; then
    printf '#define FINETUNE_IMPLEMENTATION\n#include "finetune.h"\n' >$out/library.c
    try "the library under TSan builds" ${CC:-cc} -std=c99 -O0 -g1 -DFINETUNE_NO_SIMD -fsanitize=thread -I. -c $out/library.c -o $out/threads.o
    try "test_fit under TSan builds" ${CC:-cc} -std=c99 -O0 -g1 -DFINETUNE_NO_SIMD -fsanitize=thread -I. tests/test_fit.c $out/threads.o -o $out/test_fit_threads -lm -pthread
    try "test_fit under TSan" $out/test_fit_threads threads
    try "test_share under TSan builds" ${CC:-cc} -std=c99 -O0 -g1 -DFINETUNE_NO_SIMD -fsanitize=thread -I. tests/test_share.c $out/threads.o -o $out/test_share_threads -lm -pthread
    try "test_share under TSan" $out/test_share_threads threads
else skip "ThreadSanitizer's run-time library is not installed"; fi

echo "test_sanitizers: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
