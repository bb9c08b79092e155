#!/bin/sh
# Which lines and branches of finetune.h the tests reach: `make coverage` (some 10 minutes). Builds every
# test program and the command-line tool with gcc's --coverage, at -O0 with SIMD and OpenCL, runs them
# and the tool's scripts, and adds up what gcov says. Last come the functions with the most lines that
# nothing reached. ONLY="test_fit test_data" takes some programs alone.
out=build/coverage
rm -rf $out
mkdir -p $out
root=$PWD
[ -e /usr/include/CL/cl.h ] && opencl=-DFINETUNE_OPENCL || opencl=
flags="-std=c99 -g1 -O0 --coverage $opencl -I."
# The programs run from here, as in make test, and the data lies where it was compiled.
${CC:-gcc} $flags -c tests/fuzz/library.c -o $out/library.o || exit 1
tests=${ONLY:-$(ls tests/test_*.c | sed 's/^tests.//; s/\.c$//' | grep -v accuracy)}
for test in $tests; do
    own=
    grep -q '^.include "internals.h"\|^.include "test_operators.c"\|FINETUNE_IMPLEMENTATION' tests/$test.c || own=$out/library.o
    echo "$test"
    ${CC:-gcc} $flags tests/$test.c $own -o $out/$test -lm -pthread || exit 1
    [ $test = test_opencl_failures ] && [ ! -e build/fake_opencl.so ] && make -s build/fake_opencl.so
    FINETUNE_CACHE=none timeout 900 $out/$test >$out/$test.txt 2>&1 || { echo "$test failed:"; tail -3 $out/$test.txt; }
done
if [ -z "$ONLY" ]; then
    ${CC:-gcc} $flags examples/finetune.c -o $out/finetune -lm -pthread || exit 1
    for script in tests/test_tool*.sh; do # they run build/finetune
        echo "$script"
        [ -e build/finetune ] && mv build/finetune $out/finetune.kept
        cp $out/finetune build/finetune
        timeout 900 sh $script >$out/script.txt 2>&1 || { echo "$script failed:"; tail -3 $out/script.txt; }
        rm build/finetune
        [ -e $out/finetune.kept ] && mv $out/finetune.kept build/finetune
    done
fi
for data in $out/*.gcda; do
    gcov -t -b -c "$data" 2>/dev/null
done | awk -f tests/coverage.awk
cd "$root" || exit 1
