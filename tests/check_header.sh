#!/bin/sh
# Holds the form of src/ and of finetune.h, which is joined from it:
# - data flows one way: no part uses a name that a later part defines, each includes just the parts
#   that it uses, no conditional or pragma crosses a part, and the parts of a folder stand together;
# - finetune.h and the table in docs/networks.md are what src/ gives, INDEX and banners agree;
# - no line is wider than 100 columns, no function longer than 60 lines, no part longer than 900;
# - training and the public functions know no kind of data source, and only formats/ knows formats;
# - no comment or message names a section by number.
# INCLUDES=write makes each part include just what it uses, instead of saying where it does not, and lists
# a new part of src/operators/ before operators/rows, which gathers them.
out=build/parts
passed=0 failed=0
rm -rf $out
mkdir -p $out/includes
check() { # NAME FAULTS: one check; faults are lines of text
    if [ -z "$2" ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $1:"; printf '%s\n' "$2" | head -40; fi
}

if [ "$INCLUDES" = write ]; then
    for part in src/operators/*.h; do
        name=${part#src/}
        grep -qxF "#include \"$name\"" src/finetune.h ||
            { sed "s,^#include \"operators/rows.h\"\$,#include \"$name\"\n&," src/finetune.h >$out/list.h && cp $out/list.h src/finetune.h; }
    done
fi
parts=$(sed -n 's/^#include "\([a-z0-9_]*\/[a-z0-9_]*\.h\)"$/src\/\1/p' src/finetune.h)
for part in $parts; do [ -f "$part" ] || { echo "src/finetune.h includes $part, which is not there"; exit 1; }; done
unlisted=$(ls src/*/*.h | while read -r part; do
    case " $(echo $parts) " in *" $part "*) ;; *) echo "$part: src/finetune.h does not include it" ;; esac; done)
check "every part is listed" "$unlisted"

if [ "$INCLUDES" = write ]; then
    for part in $parts; do
        grep -vE '^#include "[a-z0-9_]+/[a-z0-9_]+\.h"$' $part >$out/part.h
        cmp -s $out/part.h $part || cp $out/part.h $part
    done
fi

# Names that macros paste together show only where macros are expanded, in these configurations.
number=0
[ -e /usr/include/CL/cl.h ] && opencl=-DFINETUNE_OPENCL || opencl=
for macros in "$opencl" "-DFINETUNE_NO_SIMD -DFINETUNE_NO_POSIX" \
    "-DFINETUNE_NO_TEXT -DFINETUNE_NO_PYTORCH -DFINETUNE_NO_RECURRENT"; do
    number=$((number + 1))
    ${CC:-cc} -std=c99 -DFINETUNE_IMPLEMENTATION $macros -Isrc -I. -E -dD src/finetune.h >$out/expanded$number.txt ||
        { echo "src/finetune.h cannot be read by the compiler"; exit 1; }
done
find_faults() {
    awk -v includes=$out/includes -f tests/parts.awk src/finetune.h form=expanded $out/expanded?.txt form=source $parts
}
faults=$(find_faults)
if [ "$INCLUDES" = write ]; then
    number=0
    for part in $parts; do
        number=$((number + 1))
        { echo "#pragma once"; cat $out/includes/$number
            sed 1d $part
        } >$out/part.h
        cmp -s $out/part.h $part || cp $out/part.h $part
    done
    faults=$(find_faults)
fi
size=$(printf '%s\n' "$faults" | grep '^parts: ')
check "data flows one way" "$(printf '%s\n' "$faults" | grep -v '^parts: ')"

awk -f src/join.awk src/finetune.h >$out/finetune.h
cmp -s $out/finetune.h finetune.h && stale= || stale="finetune.h is not what src/ gives: make header"
check "finetune.h is joined from src/" "$stale"
awk -f src/networks.awk src/finetune.h docs/networks.md >$out/networks.md
cmp -s $out/networks.md docs/networks.md && stale= || stale="its table is not what src/operators/ says: make header"
check "docs/networks.md" "$stale"
index=$(sed -n '/^   INDEX$/,/^\*\/$/s/^ *\[SECTION\] //p' finetune.h)
banners=$(awk '/^\/\* =====/ { getline; if ($1 == "[SECTION]") { sub(/^ *\[SECTION\] /, ""); print } }' finetune.h)
[ -n "$index" ] && [ "$index" = "$banners" ] && differ= || differ="$(printf '%s\n' "$index" >$out/index.txt; printf '%s\n' "$banners" | diff $out/index.txt - | head; echo "(above: the difference)")"
check "INDEX and banners agree" "$differ"

check "at most 100 columns" "$(awk 'length($0) > 100 { print FILENAME ":" FNR }' src/finetune.h $parts)"
check "functions of at most 60 lines" "$(awk '/^[a-zA-Z].*[(]/ { name = $0 } /^\{/ { start = FNR }
    /^\}/ { if (start && FNR - start > 61) print FILENAME ": " name " (" FNR - start " lines)"; start = 0 }' $parts)"
check "parts of at most 900 lines" "$(wc -l $parts | awk '$2 != "total" && $1 > 900 { print $2 ": " $1 " lines" }')"
# Each field of the options in ft__options is kept in files, or said not to be.
options=$(sed -n '/^typedef union ft__options/,/^}/s/^ *\(ft_*[a-z0-9_]*_options\) .*/\1/p' src/nodes/nodes.h
    grep -o '\bO([a-z0-9_]*)' src/nodes/operators.h | sed 's/O(\(.*\))/ft_\1_options/')
[ -n "$options" ] || options=none
fields=$(awk -v names="$options" '
    BEGIN { split(names, list, /[ \n]+/); for (i in list) wanted[list[i]] = 1 }
    { gsub(/\/\*[^*]*\*\//, "") }
    comment { if (/\*\//) { sub(/.*\*\//, ""); comment = 0 } else next }
    /\/\*/ { sub(/\/\*.*/, ""); comment = 1 }
    /^typedef struct ft_*[a-z0-9_]*_options [{]/ { name = $3; open = name in wanted; found += open
        sub(/^[^{]*[{]/, "") }
    open { text = $0; closes = text ~ /[}]/; sub(/[}].*/, "", text); gsub(/\[[^]]*\]/, "", text)
        count = split(text, statement, ";")
        for (i = 1; i <= count; ++i) {
            parts = split(statement[i], field, ",")
            for (j = 1; j <= parts; ++j) if (field[j] ~ /[a-z]/) { sub(/ *$/, "", field[j]); sub(/.* /, "", field[j])
                print name ", " field[j] }
        }
        if (closes) open = 0 }
    END { for (i in list) if (list[i] == "none" || found < 10) print "this check is broken" }' src/interface/*.h src/nodes/nodes.h | sort)
listed=$(grep -hoE 'FT__(INT|FLOAT|BOOL|NOT_KEPT)\(ft_[a-z0-9_]*, [a-z0-9_]*' src/operators/*.h | sed 's/.*(//' | sort)
printf '%s\n' "$listed" >$out/listed.txt
check "fields of options are listed once" "$(printf '%s\n' "$fields" | diff - $out/listed.txt)"
# A flag of an operator's row is one bit, which no other has.
check "flags have a bit each" "$(grep -o 'FT__FLAG([0-9]*)' src/operators/table.h | sort | uniq -d | sed 's/$/ is the bit of two flags/')"
# Training and the public functions ask sources for features, never for their kind.
check "sources are told apart by callbacks" "$(grep -nE '"data/(image_folders|image_samples|pixels|tables|texts|text_streams)\.h"' src/training/*.h src/public/*.h)"
# Files are opened by the table of readers, which only formats/ knows.
check "formats are told apart by their readers" "$(grep -nE '"formats/(safetensors|pytorch|checkpoints|descriptions)\.h"' $(ls src/*/*.h | grep -v ^src/formats/))"
check "comments name parts, not numbers" "$(grep -nE '[Ss]ections? [0-9]' src/finetune.h $parts kernels.cl)"
echo "$size"
echo "check_header: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
