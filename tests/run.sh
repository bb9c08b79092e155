#!/bin/sh
# Runs every test program and script, shows what each says, and adds up their last lines, which read
# "NAME: N passed, N failed, N skipped". A program that ends without such a line counts as failed.
passed=0 failed=0 skipped=0
mkdir -p build
for test in build/test_* tests/test_*.sh; do
    case $test in *.d) continue ;; esac
    [ -e "$test" ] || continue
    case $test in *.sh) sh "$test" >build/output.txt 2>&1 ;; *) "$test" >build/output.txt 2>&1 ;; esac
    status=$?
    cat build/output.txt
    line=$(grep -E '^[a-z_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' build/output.txt | tail -1)
    if [ -z "$line" ]; then
        echo "$test: ended with status $status and without a count"
        failed=$((failed + 1))
        continue
    fi
    set -- $(echo "$line" | tr -dc '0-9 ')
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    if [ $status -ne 0 ] && [ "$2" -eq 0 ]; then
        echo "$test: ended with status $status"
        failed=$((failed + 1))
    fi
done
rm -f build/output.txt
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
