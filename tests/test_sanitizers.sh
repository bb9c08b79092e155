#!/bin/sh
# Whole training runs under AddressSanitizer and UndefinedBehaviorSanitizer; the other tests run
# without them, for speed. The kernels for SIMD run in test_fit only: with them the compiler takes
# 76 seconds instead of 28.
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

if echo 'int main(void){return 0;}' | ${CC:-cc} -fsanitize=address,undefined -x c - -o $out/asan 2>/dev/null && $out/asan; then
    for test in test_fit test_formats test_data; do
        [ $test = test_fit ] && simd= || simd=-DFINETUNE_NO_SIMD
        try "$test under ASan and UBSan builds" ${CC:-cc} -std=c99 -O1 -g $simd -fsanitize=address,undefined -fno-sanitize-recover=all -I. tests/$test.c -o $out/$test -lm -pthread
        try "$test under ASan and UBSan" env FINETUNE_QUICK=1 $out/$test
    done
    if [ -e build/fake_opencl.so ]; then # what drivers leak is theirs
        try "test_opencl_failures under ASan and UBSan builds" ${CC:-cc} -std=c99 -O1 -g -DFINETUNE_NO_SIMD -DFINETUNE_OPENCL -fsanitize=address,undefined -fno-sanitize-recover=all -I. tests/test_opencl_failures.c -o $out/test_opencl_failures -lm -pthread
        try "test_opencl_failures under ASan and UBSan" env ASAN_OPTIONS=detect_leaks=0 $out/test_opencl_failures
    else skip "built without OpenCL's headers"; fi
else skip "the sanitizers' run-time libraries are not installed"; fi

echo "test_sanitizers: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
