# Writes the table of operators of docs/networks.md from the comments "In files: NAMES | inputs |
# fields" above their rows:
#     awk -f src/networks.awk src/finetune.h docs/networks.md
# "the other activations" are those of FINETUNE_ACTIVATION_LIST and FINETUNE_MORE_ACTIVATION_LIST that no
# such comment names.
FNR == 1 { file += 1; folder = folder == "" ? FILENAME : folder; sub(/[^\/]*$/, "", folder) }

file == 1 && /^#include "(interface\/operators|operators\/[a-z0-9_]+)\.h"$/ {
    split($0, part, "\"")
    while ((getline line <(folder part[2])) > 0) {
        if (line ~ /^#define FINETUNE_(MORE_)?ACTIVATION_LIST/) list = 1
        if (list && match(line, /X\([a-z0-9_]+\)/))
            activation[++activations] = "`" substr(line, RSTART + 2, RLENGTH - 3) "`"
        if (line !~ /\\$/) list = 0
        if (line ~ /^\/\* In files: /) row[++rows] = ""
        else if (!goes_on) continue
        goes_on = line !~ /\*\/$/
        sub(/^(\/\* In files:|  +) */, "", line)
        sub(/ *\*\/$/, "", line)
        row[rows] = row[rows] " " line
    }
}
file == 1 { next }

{ print }
/^\| op \| inputs \| fields / {
    getline
    print
    for (i = 1; i <= rows; ++i) named = named substr(row[i], 1, index(row[i], "|"))
    for (i = 1; i <= activations; ++i)
        if (!index(named, activation[i])) others = others (others == "" ? "" : ", ") activation[i]
    for (i = 1; i <= rows; ++i) {
        sub(/^ the other activations/, " " others, row[i])
        print "|" row[i] " |"
    }
    while ((getline > 0) && /^\|/) {}
    print
}
