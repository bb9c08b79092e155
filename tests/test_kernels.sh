#!/bin/sh
# kernels.cl by itself: valid OpenCL C 1.2 (clang), and free of data races, of accesses outside of
# buffers and of wrong API calls, small cases of the operator suite being run by Oclgrind. That is
# slow: LONG=1 takes all cases but the largest convolutions.
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
out=build/kernels
mkdir -p $out

if command -v clang >/dev/null; then
    make -s check-cl >$out/log.txt 2>&1 && ok || { bad "make check-cl"; head -20 $out/log.txt; }
else skip "clang is not installed"; fi

# The simulator is an OpenCL driver like others: the loader is told to know no other one.
oclgrind=$(command -v oclgrind) && simulator=$(dirname "$(dirname "$oclgrind")")/lib/oclgrind/liboclgrind-rt-icd.so
if [ -e "$simulator" ] && ! build/test_opencl relu 1 | grep -q ', 1 skipped'; then
    mkdir -p $out/vendors
    echo "$simulator" >$out/vendors/oclgrind.icd
    export OCL_ICD_VENDORS="$PWD/$out/vendors" OCLGRIND_CHECK_API=1 OCLGRIND_DATA_RACES=1

    # It must see a race where there is one.
    printf '__kernel void race(__global int *x) { x[0] = get_global_id(0); x[1] = x[0]; }\n' >$out/race.cl
    printf 'race.cl\nrace\n4 1 1\n4 1 1\n<size=8 fill=0>\n' >$out/race.sim
    (cd $out && oclgrind-kernel --data-races race.sim) 2>&1 | grep -q "data race" && ok || bad "the simulator sees no race"

    watch_program() {
        "$@" >$out/out.txt 2>$out/err.txt
        status=$?
        if [ $status -eq 0 ] && [ ! -s $out/err.txt ] && grep -q 'passed, 0 failed, 0 skipped$' $out/out.txt; then ok
        else bad "under Oclgrind: $* (status $status)"; head -5 $out/out.txt $out/err.txt; fi
    }
    # watch --brief OPERATOR CASE; without a case all of them, or the first of each operator
    watch() { watch_program build/test_opencl "$@"; }
    watch --brief
    # What emulates the instructions of tensor cores wants more local memory than the 32 KiB here.
    OCLGRIND_LOCAL_MEM_SIZE=49152 watch_program build/test_tensor --brief
    if [ -n "$LONG" ]; then
        # all of the list of operators, but for dropout, which has no cases, and conv2d
        for op in $(sh tests/operators.sh finetune.h | grep -vE '^(conv2d|dropout)$'); do watch --brief $op; done
        for case in 1 2 11 13 14 15 16 17 18 19 20 21; do watch --brief conv2d $case; done
    fi
else skip "Oclgrind is not installed, or the tests are built without OpenCL"; fi
echo "test_kernels: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
