#!/bin/sh
# Runs every test program, then every test script, two at a time, shows what each says, and adds up
# their last lines, which read "NAME: N passed, N failed, N skipped". One that ends without such a
# line counts as failed. Programs and scripts are two rounds, for scripts run some programs again.
# At the end: where the time went. COMPILED: the seconds that compiling took.
passed=0 failed=0 skipped=0
mkdir -p build/output
rm -f build/output/*

run() { # TEST...: leaves what each says, its status and its seconds in build/output
    printf '%s\n' "$@" | xargs -P 2 -I TEST sh -c '
        out=build/output/$(basename TEST)
        start=$(date +%s)
        case TEST in *.sh) sh TEST ;; *) TEST ;; esac >"$out.txt" 2>&1
        echo $? >"$out.status"
        echo $(($(date +%s) - start)) >"$out.seconds"'
}

count() { # TEST...
    for test; do
        out=build/output/$(basename "$test")
        sed "\$s/\$/, $(cat "$out.seconds") s/" "$out.txt"
        status=$(cat "$out.status")
        line=$(grep -E '^[a-z_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$out.txt" | tail -1)
        if [ -z "$line" ]; then
            echo "$test: ended with status $status and without a count"
            failed=$((failed + 1))
            continue
        fi
        set -- $(echo "$line" | tr -dc '0-9 ')
        passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
        if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then
            echo "$test: ended with status $status"
            failed=$((failed + 1))
        fi
    done
}

longest="build/test_opencl tests/test_sanitizers.sh tests/test_builds.sh"
longest_first() { # TEST...: what takes minutes begins first, for none of it should be left alone at the end
    for test in $longest; do
        case " $* " in *" $test "*) echo "$test" ;; esac
    done
    for test; do
        case " $longest " in *" $test "*) ;; *) echo "$test" ;; esac
    done
}

programs=$(for test in build/test_*; do case $test in *.d | *.so) ;; *) echo "$test" ;; esac; done)
programs=$(longest_first $programs)
scripts=$(longest_first tests/test_*.sh)
start=$(date +%s)
run $programs
between=$(date +%s)
count $programs
run $scripts
end=$(date +%s)
count $scripts
slowest=$(for file in build/output/*.seconds; do echo "$(cat "$file") $(basename "$file" .seconds)"; done |
    sort -rn | head -5 | awk '{ printf "%s%s %s s", (NR > 1 ? ", " : ""), $2, $1 }')
echo "time: ${COMPILED:+compile $COMPILED s, }programs $((between - start)) s, scripts $((end - between)) s"
echo "slowest: $slowest"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
