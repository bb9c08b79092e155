#!/bin/sh
# Breaks the source on purpose, one place at a time, and sees that a test notices: a seeded sample of
# sign flips, dropped additions, swapped bounds and off-by-ones over all parts of src/.
#     MUTANTS=40 SEED=1 WORKERS=2 PARTS="src/kernels/*.h" sh tests/mutate.sh
# First every test runs once, without any change, to see which lines it reaches. A mutant is then tried
# with the tests that reach its line, the quickest first, and is killed when one fails. One that no test
# notices is listed: each wants a new test, or a reason why nothing can differ. One that never ends is
# listed too, and counts as neither. One that does not compile, or that gives the same code as before, is
# listed and replaced by the next of the sample.
# Most tests are built for this at -O0 and without SIMD, which takes 3 seconds instead of 20. Those that
# compute for minutes then, and come last, are built at -O1 with SIMD; so are some more for parts that
# choose by SIMD level. Devices are tried with OpenCL too.
mutants=${MUTANTS:-20} seed=${SEED:-1} workers=${WORKERS:-2} parts=${PARTS:-src/[!i]*/*.h}
work=build/mutate
tree=$work/tree
case ${FINETUNE_DATA:=../shared/data} in /*) ;; *) FINETUNE_DATA=$PWD/$FINETUNE_DATA ;; esac
export FINETUNE_DATA FINETUNE_CACHE=none FINETUNE_QUICK=1
rm -rf $work
mkdir -p $tree/build $work/reached
# Every possible change: part, line, what to find, what to put there, with tabs between.
awk -v OFS='\t' '
    /^ *(\/\*|\*)/ || /^#/ || /ft__fail|ft__log|"/ { next }
    {
        code = $0; sub(/\/\*.*/, "", code)
        n = split(" + : - ~ - : + ~+= :-= ~-= :+= ~ < : <= ~ <= : < ~ > : >= ~ >= : > ~++:--~ \\* : + ~ 0;: 1;~ 1;: 0;~ && : || ~ || : && ", rules, "~")
        for (i = 1; i <= n; ++i) {
            split(rules[i], r, ":")
            plain = r[1]; gsub(/\\/, "", plain)
            if (index(code, plain) && !(plain == "++" && /for \(/)) print FILENAME, FNR, r[1], r[2]
        }
    }' $parts >$work/all.txt
total=$(wc -l <$work/all.txt)
awk -v seed="$seed" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' $work/all.txt |
    sort -n | cut -f2- >$work/sample.txt
echo "$mutants of $total possible changes, seed $seed"
[ "$total" -gt 0 ] || { echo "mutate: nothing to change was found"; exit 1; }

cp -r src tests examples docs kernels.cl README.md Makefile $tree
cd $tree || exit 1
work=..
cc=${CC:-cc}
base="-std=c99 -w -Isrc -I."
plain="$base -O0 -DFINETUNE_NO_SIMD"
[ -e /usr/include/CL/cl.h ] && opencl=-DFINETUNE_OPENCL || opencl=
internal=' '$(grep -l '^.include "internals.h"\|^.include "test_operators.c"\|FINETUNE_IMPLEMENTATION' tests/test_*.c |
    sed 's/^tests.//; s/\.c$//' | tr '\n' ' ')
opencl_tests=" test_opencl_failures test_tensor test_opencl "
sanitizers="-g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
slow=" test_weights test_networks test_sequences test_levels test_elementary test_layout test_operators test_gemm test_golden test_memory "
flags_of() { case "$slow" in *" $1 "*) echo "$base -O1" ;; *) echo "$plain" ;; esac; }
# test_operators is a part of test_opencl, and those of accuracy take many minutes.
every=$(ls tests/test_*.c tests/test_tool*.sh | sed 's/^tests.//; s/\.c$//' | grep -v accuracy)

library() { # FLAGS: build/lib.o, which what tests public functions links, and build/finetune
    $cc $1 -c examples/finetune.c -o build/tool.o 2>build/make.txt || return 1
    objcopy --localize-symbol=main build/tool.o build/lib.o
    cp build/lib.o build/finetune.o # what scripts link
    rm -f build/finetune
}
program() { # TEST FLAGS: builds it
    case "$internal" in
    *" $1 "*) $cc $2 tests/$1.c -o build/$1 -lm -pthread 2>build/make.txt
        [ $1 != test_opencl_failures ] || $cc $base -shared -fPIC tests/fake_opencl.c -o build/fake_opencl.so ;;
    *) case $1 in
        *.sh) [ -e build/finetune ] || $cc $2 build/tool.o -o build/finetune -lm -pthread ;;
        *)  [ -e build/$1.o ] || $cc $base -O1 -c tests/$1.c -o build/$1.o
            $cc $2 build/$1.o build/lib.o -o build/$1 -lm -pthread 2>build/make.txt ;;
        esac ;;
    esac
}
run() { # TEST SECONDS
    case $1 in
    *.sh) awk -f src/join.awk src/finetune.h >finetune.h # for the programs that scripts compile
        CC="$cc $script_flags" FINETUNE_DATA=none timeout $2 sh tests/$1 ;; # real networks at -O0 take an hour
    *) timeout $2 build/$1 ;;
    esac </dev/null >build/test.txt 2>&1
}

# ---- Without a change: the seconds of each test, and the lines that it reaches ----
: >$work/tests.txt
built= script_flags=--coverage
for test in $every; do
    case "$opencl_tests" in *" $test "*) [ $test = test_tensor ] || continue ;; esac
    flags="$(flags_of $test) --coverage"
    rm -f build/*.gcda
    case "$internal" in
    *" $test "*) ;;
    *) [ "$built" = "$flags" ] || library "$flags" || { cat build/make.txt; exit 1; }
       built=$flags ;;
    esac
    program $test "$flags" || { cat build/make.txt; exit 1; }
    start=$(date +%s)
    run $test 900 || { echo "mutate: $test fails without any change, and is left out:"; tail -n 2 build/test.txt; continue; }
    seconds=$(($(date +%s) - start))
    for data in build/*.gcda; do gcov -t $data 2>/dev/null; done | awk -v known=$work/known.txt '
        /:Source:/ { part = $0; sub(/.*:Source:/, "", part); ours = part ~ /^src\/.*\//; next }
        !ours { next }
        { split($0, field, ":"); count = field[1]; gsub(/ /, "", count); line = field[2] + 0 }
        count == "-" { next }
        { print part ":" line >>known }
        count + 0 > 0 && !((part, line) in seen) { seen[part, line]; print part ":" line }' >$work/reached/$test
    cost=$seconds
    case "$internal" in *" $test "*) cost=$((cost + 4)) ;; esac
    case "$slow" in *" $test "*) cost=$((cost + 1000)) ;; esac
    echo "$cost $test $seconds" >>$work/tests.txt
    rm -f build/$test
done
rm -f build/*.gcda build/*.gcno
script_flags=
sort -n -o $work/tests.txt $work/tests.txt
sort -u -o $work/known.txt $work/known.txt
library "$plain" && mv build/tool.o $work/before.o

seconds_of() { awk -v test="$1" '$2 == test { print $3 }' $work/tests.txt; }
# The line whose code holds line $2 of part $1: a statement may go on over several lines. Nothing: it is
# in a macro or a table.
code_line() {
    awk -v part="$1" -v at="$2" 'FNR == NR { if (index($0, part ":") == 1) known[substr($0, length(part) + 2) + 0]; next }
        { text[FNR] = $0 }
        END { if (text[at] ~ /\\$/ || text[at - 1] ~ /\\$/) exit
              for (i = at; i > 0 && !(i in known); --i) if (i < at && text[i] ~ /^}/) exit
              if (i > 0) print i }' $work/known.txt "$1"
}
tests_of() { # PART LINE
    at=$(code_line $1 $2)
    while read -r cost test seconds; do
        [ -z "$at" ] || grep -qx "$1:$at" $work/reached/$test && echo $test
    done <$work/tests.txt
}
outcome() { # TESTS [FLAGS]: killed TEST, survived, broken or endless TEST
    rm -f build/lib.o
    built=
    for test in $1; do
        flags=${2:-$(flags_of $test)}
        case "$internal" in
        *" $test "*) ;;
        *) [ "$built" = "$flags" ] || library "$flags" || { echo broken; return; }
           built=$flags ;;
        esac
        program $test "$flags" || { echo broken; return; }
        seconds=$(seconds_of $test)
        run $test $((3 * ${seconds:-60} + 20)) # measured while lines were counted, which takes longer
        case $? in
        0) ;;
        124) echo "endless $test"; return ;;
        *) echo "killed $test"; return ;;
        esac
    done
    echo survived
}
judge() { # PART LINE: the outcome in all builds
    tests=$(tests_of $1 $2) with_opencl=
    grep -q 'FINETUNE_OPENCL' $1 && with_opencl=$opencl
    if grep -q 'FT__LEVELS\|simd\|NO_SIMD' $1; then
        for test in $slow; do # what only SIMD reaches
            echo "$tests" | grep -qx $test || [ $test = test_memory ] || tests="$tests $test"
        done
    elif [ -z "$with_opencl" ]; then
        library "$plain" || { echo broken; return; }
        if cmp -s build/tool.o $work/before.o; then echo same; return; fi
    fi
    result=$(outcome "$tests")
    if [ "$result" = survived ]; then # LONG=1 tests/test_sanitizers.sh notices an access out of bounds
        watched=
        for test in $tests; do
            case "$internal $test" in *" $test "* | *.sh) ;; *) watched="$watched $test" ;; esac
        done
        result=$(outcome "$watched" "$base -O0 $sanitizers")
    fi
    [ "$result" = survived ] && [ -n "$with_opencl" ] && result=$(outcome "$opencl_tests" "$base -O1 $opencl")
    echo "$result"
}

# ---- The sample, shared by workers, each in a tree of its own ----
tab=$(printf '\t')
try_share() { # WORKER: every so many of the sample, until its share of mutants is judged
    judged=0
    awk -v n="$workers" -v k="$1" 'NR % n == k - 1' $work/sample.txt >build/sample.txt
    while IFS="$tab" read -r part line from to; do
        [ $((judged * workers + $1)) -gt "$mutants" ] && break
        cp $part build/part.h
        awk -v at="$line" -v from="$from" -v to="$to" 'FNR == at {
                plain = from; gsub(/\\/, "", plain)
                i = index($0, plain); $0 = substr($0, 1, i - 1) to substr($0, i + length(plain)) }
            { print }' build/part.h >$part
        result=$(judge $part $line)
        cp build/part.h $part
        case $result in killed* | survived | endless*) judged=$((judged + 1)) ;; esac
        text="$result: $part:$line: '$from' -> '$to': $(sed -n "${line}p" $part)"
        echo "$text" >>$work/results.txt
        case $result in killed*) ;; *) echo "$text" ;; esac
    done <build/sample.txt
}
: >$work/results.txt
worker=1
while [ $worker -le "$workers" ]; do
    cp -r . ../tree.$worker
    (cd ../tree.$worker && try_share $worker) &
    worker=$((worker + 1))
done
wait
count() { grep -c "^$1" $work/results.txt; }
echo "mutate: $(count killed) killed, $(count survived) survived, $(count endless) never ended; replaced: $(count broken) that did not compile, $(count same) that changed nothing"
