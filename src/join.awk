# Joins the parts into one header, in the order of the #include lines of src/finetune.h:
#     awk -f src/join.awk src/finetune.h >finetune.h
# A part loses its "#pragma once" and the lines that include other parts; below the line INDEX
# comes a line for each part, its banner. Nothing else changes.
function is_include(line) { return line ~ /^#include "[a-z0-9_]+\/[a-z0-9_]+\.h"$/ }
function part_of(line) { sub(/^#include "/, "", line); sub(/"$/, "", line); return line }

is_include($0) {
    part = part_of($0)
    text = banner = ""
    while ((got = (getline line <(folder part))) > 0) {
        if (line == "#pragma once" || is_include(line)) continue
        if (banner == "" && line ~ /^   \[SECTION\] /) banner = "  " line
        text = text line "\n"
    }
    if (got < 0 || banner == "") {
        print "join.awk: " folder part (got < 0 ? " cannot be read" : " has no [SECTION] line") >"/dev/stderr"
        failed = 1
        exit 1
    }
    header = header text
    index_lines = index_lines banner "\n"
    next
}
NR == 1 { folder = FILENAME; sub(/[^\/]*$/, "", folder) }
$0 == "   INDEX" { top = header $0 "\n"; header = ""; next }
{ header = header $0 "\n" }
END { if (!failed) printf "%s%s%s", top, index_lines, header }
