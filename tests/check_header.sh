#!/bin/sh
# Holds the form of finetune.h: INDEX and banners agree and stand in order, no line is wider than 100
# columns, no function longer than 60 lines, no section longer than 900.
header=finetune.h
problems=0
say() { echo "$1"; problems=$((problems + 1)); }

index=$(sed -n '/^   INDEX$/,/^\*\/$/s/^ *\[SECTION\] //p' $header)
found=$(awk '/^\/\* =====/ { getline; if ($1 == "[SECTION]") { sub(/^ *\[SECTION\] /, ""); print } }' $header)
[ "$index" = "$found" ] || { say "INDEX and banners differ:"; printf '%s\n' "$index" >build/index.txt
    printf '%s\n' "$found" | diff build/index.txt - ; }

wide=$(awk 'length($0) > 100 { print NR }' $header | head -5 | tr '\n' ' ')
[ -z "$wide" ] || say "wider than 100 columns: lines $wide"

long=$(awk '/^[a-zA-Z].*[(]/ { name = $0 } /^\{/ { start = NR }
    /^\}/ { if (start && NR - start > 61) print name " (" NR - start " lines)"; start = 0 }' $header)
[ -z "$long" ] || say "functions longer than 60 lines: $long"

big=$(awk '/^   \[SECTION\]/ { if (at && NR - at > 900) print name " (" NR - at " lines)"; name = $0; at = NR }
    END { if (NR - at > 900) print name " (" NR - at " lines)" }' $header)
[ -z "$big" ] || say "sections longer than 900 lines: $big"
echo "check_header: $((4 - problems)) passed, $problems failed, 0 skipped"
[ $problems -eq 0 ]
