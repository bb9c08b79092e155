#!/bin/sh
# Whole training runs under AddressSanitizer and UndefinedBehaviorSanitizer, and those in several
# threads under ThreadSanitizer; the other tests run without them, for speed. At -O0, where every
# access that is written is made and watched: the compiler takes 10 seconds, at -O1 25, and the runs
# are short. With the kernels for SIMD it takes 45, at -O1 86: they are in the library that tests of
# public functions link.
passed=0 failed=0 skipped=0
out=build/sanitizers
mkdir -p $out

# try NAME COMMAND...: the command must succeed
try() {
    name=$1; shift
    if "$@" >$out/log.txt 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name: $*"; head -20 $out/log.txt; fi
}
printf '#define FINETUNE_IMPLEMENTATION\n#include "finetune.h"\n' >$out/library.c
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }

if echo 'int main(void){return 0;}' | ${CC:-cc} -fsanitize=address,undefined -x c - -o $out/asan 2>/dev/null && $out/asan; then
    watched="-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    try "the library under ASan and UBSan builds" ${CC:-cc} -std=c99 $watched -I. -c $out/library.c -o $out/library.o
    for test in test_fit test_formats test_data; do
        [ $test = test_data ] && library=-DFINETUNE_NO_SIMD || library=$out/library.o
        try "$test under ASan and UBSan builds" ${CC:-cc} -std=c99 $watched $library -I. tests/$test.c -o $out/$test -lm -pthread
        try "$test under ASan and UBSan" env FINETUNE_QUICK=1 $out/$test
    done
    if [ -e build/fake_opencl.so ]; then # what drivers leak is theirs
        try "test_opencl_failures under ASan and UBSan builds" ${CC:-cc} -std=c99 $watched -DFINETUNE_NO_SIMD -DFINETUNE_OPENCL -I. tests/test_opencl_failures.c -o $out/test_opencl_failures -lm -pthread
        try "test_opencl_failures under ASan and UBSan" env ASAN_OPTIONS=detect_leaks=0 $out/test_opencl_failures
    else skip "built without OpenCL's headers"; fi
else skip "the sanitizers' run-time libraries are not installed"; fi
if echo 'int main(void){return 0;}' | ${CC:-cc} -fsanitize=thread -x c - -o $out/tsan 2>/dev/null && $out/tsan; then
    try "test_fit under TSan builds" ${CC:-cc} -std=c99 -O1 -g1 -DFINETUNE_NO_SIMD -fsanitize=thread -I. tests/test_fit.c $out/library.c -o $out/test_fit_threads -lm -pthread
    try "test_fit under TSan" $out/test_fit_threads threads
else skip "ThreadSanitizer's run-time library is not installed"; fi

echo "test_sanitizers: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
