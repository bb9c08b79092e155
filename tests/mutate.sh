#!/bin/sh
# Breaks finetune.h on purpose, one place at a time, and sees that a test notices. A seeded sample of
# sign flips, dropped additions, swapped bounds and off-by-ones in sections 6 to 12.
#     MUTANTS=40 SEED=1 sh tests/mutate.sh
# Survivors are listed: each wants a new test, or a reason why nothing can differ.
mutants=${MUTANTS:-20} seed=${SEED:-1}
work=build/mutate
mkdir -p $work
# Every possible change: line number, tab, what to find, tab, what to put there.
awk -v OFS='\t' '
    /^   \[SECTION\] 6\.1/ { on = 1 }
    /^   \[SECTION\] 13 / { on = 0 }
    !on || /^ *(\/\*|\*)/ || /^#/ || /ft__fail|ft__log|"/ { next }
    {
        n = split(" + | - ~ - | + ~+= |-= ~-= |+= ~ < | <= ~ <= | < ~ > | >= ~ >= | > ~++|--~ \\* | + ~ 0;| 1;~ 1;| 0;~ && | || ", rules, "~")
        for (i = 1; i <= n; ++i) {
            split(rules[i], r, "|")
            plain = r[1]; gsub(/\\/, "", plain)
            if (index($0, plain) && !(plain == "++" && /for \(/)) print NR, r[1], r[2]
        }
    }' finetune.h >$work/all.txt
total=$(wc -l <$work/all.txt)
awk -v seed="$seed" -v n="$mutants" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' $work/all.txt |
    sort -n | head -n "$mutants" | cut -f2- >$work/sample.txt
echo "$mutants of $total possible changes"
killed=0 survived=0 broken=0 number=0
tab=$(printf '\t')
while IFS="$tab" read -r line from to; do
    number=$((number + 1))
    awk -v at="$line" -v from="$from" -v to="$to" 'NR == at {
            plain = from; gsub(/\\/, "", plain)
            i = index($0, plain); $0 = substr($0, 1, i - 1) to substr($0, i + length(plain)) }
        { print }' finetune.h >$work/finetune.h
    result=survived
    for test in test_golden test_operators test_fit test_formats; do
        if ! ${CC:-cc} -std=c99 -O1 -w -I$work -I. tests/$test.c -o $work/$test -lm -pthread 2>/dev/null; then
            result=broken; break
        fi
        if ! FINETUNE_QUICK=1 timeout 120 $work/$test >/dev/null 2>&1; then result=killed; break; fi
    done
    case $result in
        killed) killed=$((killed + 1)) ;;
        broken) broken=$((broken + 1)) ;;
        survived) survived=$((survived + 1)); echo "SURVIVED line $line: '$from' -> '$to': $(sed -n "${line}p" finetune.h)" ;;
    esac
done <$work/sample.txt
echo "mutate: $killed killed, $survived survived, $broken did not compile"
