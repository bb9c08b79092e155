#!/bin/sh
# Breaks the source on purpose, one place at a time, and sees that a test notices: a seeded sample of
# sign flips, dropped additions, swapped bounds and off-by-ones over all parts of src/.
#     MUTANTS=40 SEED=1 PARTS="src/kernels/*.h" sh tests/mutate.sh
# A mutant is killed when a test of its chapter fails. One that no test notices within the time is
# listed: each wants a new test, or a reason why nothing can differ. One that never ends is listed too
# and counts as neither.
mutants=${MUTANTS:-20} seed=${SEED:-1} parts=${PARTS:-src/[!i]*/*.h}
work=build/mutate
tree=$work/tree
case ${FINETUNE_DATA:=../shared/data} in /*) ;; *) FINETUNE_DATA=$PWD/$FINETUNE_DATA ;; esac
export FINETUNE_DATA
rm -rf $work
mkdir -p $tree
# Every possible change: part, line, what to find, what to put there, with tabs between.
awk -v OFS='\t' '
    /^ *(\/\*|\*)/ || /^#/ || /ft__fail|ft__log|"/ { next }
    {
        n = split(" + | - ~ - | + ~+= |-= ~-= |+= ~ < | <= ~ <= | < ~ > | >= ~ >= | > ~++|--~ \\* | + ~ 0;| 1;~ 1;| 0;~ && | || ", rules, "~")
        for (i = 1; i <= n; ++i) {
            split(rules[i], r, "|")
            plain = r[1]; gsub(/\\/, "", plain)
            if (index($0, plain) && !(plain == "++" && /for \(/)) print FILENAME, FNR, r[1], r[2]
        }
    }' $parts >$work/all.txt
total=$(wc -l <$work/all.txt)
awk -v seed="$seed" -v n="$mutants" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' $work/all.txt |
    sort -n | head -n "$mutants" | cut -f2- >$work/sample.txt
echo "$mutants of $total possible changes"
[ "$total" -gt 0 ] || { echo "mutate: nothing to change was found"; exit 1; }

cp -r src tests examples Makefile kernels.cl finetune.h $tree
opencl="test_opencl test_tensor test_opencl_failures"
tests_of() { # CHAPTER: the programs that look at it, the likeliest to notice first
    case $1 in
    kernels) echo test_gemm test_golden test_operators test_elementary test_networks test_sequences test_levels test_attention test_edges ;;
    nodes | operators | graph | optimizers) echo test_golden test_operators test_fit test_memory test_sequences test_networks test_gemm test_levels test_attention test_edges ;;
    devices) echo $opencl ;;
    formats) echo test_formats test_checkpoints test_hostile test_fit test_weights test_zip test_data ;;
    text) echo test_tokenizers test_text test_text_train ;;
    networks) echo test_networks test_fit test_text test_text_train test_sequences test_golden ;;
    data) echo test_data test_pictures test_tables test_pixels test_cache test_text test_text_train test_fit ;;
    *) echo test_fit test_runs test_prediction test_resume test_arguments test_newcomer test_data test_text_train test_text test_cache test_formats test_memory test_tokenizers test_golden ;;
    esac
    case $1 in kernels | nodes | operators | devices) ;; *) echo test_tool test_tool_text test_tool_tables test_tool_pictures ;; esac
}
# Compiling takes longer than running, except where much is computed.
level_of() { # CHAPTER
    case $1 in kernels | nodes | operators | graph | optimizers | devices) echo -O1 ;; *) echo -O0 ;; esac
}
make_in_tree() { make -s -C $tree CFLAGS="$level -g0" FOR_TESTS="$level -g0" "$@" >$work/make.txt 2>&1; }
outcome() { # TESTS LEVEL: killed TEST, survived, broken or endless TEST
    level=$2
    for test in $1; do
        if [ -e tests/$test.sh ]; then
            make_in_tree build/finetune || { echo broken; return; }
            (cd $tree && timeout 900 sh tests/$test.sh) </dev/null >$work/test.txt 2>&1
        elif [ -e tests/$test.c ]; then
            make_in_tree build/$test || { echo broken; return; }
            (cd $tree && FINETUNE_CACHE=none FINETUNE_QUICK=1 timeout 900 build/$test) </dev/null >$work/test.txt 2>&1
        else continue; fi
        case $? in
        0) ;;
        124) echo "endless $test"; return ;;
        *) echo "killed $test"; return ;;
        esac
    done
    echo survived
}

# What passes now is the yardstick: a test that fails without a change would kill every mutant.
chapters=$(cut -f1 $work/sample.txt | cut -d/ -f2 | sort -u)
every_test=$(for chapter in $chapters; do tests_of "$chapter"; done | tr ' ' '\n' | sort -u)
before=$(outcome "$every_test" -O1)
[ "$before" = survived ] || { echo "mutate: without any change: $before"; for f in $work/make.txt $work/test.txt; do tail -n 5 $f; done; exit 1; }

killed=0 survived=0 broken=0 endless=0
tab=$(printf '\t')
while IFS="$tab" read -r part line from to; do
    awk -v at="$line" -v from="$from" -v to="$to" 'FNR == at {
            plain = from; gsub(/\\/, "", plain)
            i = index($0, plain); $0 = substr($0, 1, i - 1) to substr($0, i + length(plain)) }
        { print }' $part >$tree/$part
    chapter=${part#src/}
    chapter=${chapter%%/*}
    result=$(outcome "$(tests_of $chapter)" "$(level_of $chapter)")
    case $result in
        killed*) killed=$((killed + 1)) ;;
        broken) broken=$((broken + 1)) ;;
        endless*) endless=$((endless + 1)) ;;
        survived) survived=$((survived + 1)) ;;
    esac
    echo "$result: $part:$line: '$from' -> '$to': $(sed -n "${line}p" $part)" >>$work/results.txt
    case $result in killed*) ;; *) tail -1 $work/results.txt ;; esac
    cp $part $tree/$part
    touch $tree/$part
done <$work/sample.txt
echo "mutate: $killed killed, $survived survived, $endless never ended, $broken did not compile"
