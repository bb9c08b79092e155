# Adds up what `gcov -t -b -c` says of finetune.h for several programs: a line or a branch counts as
# reached if any of them reached it.
/^ +-: +0:Source:/ { ours = $0 ~ /finetune\.h$/; next }
!ours { next }
/^function / { name = $2; next }
/^branch / {
    key = line SUBSEP $2
    branches[key]
    if ($3 == "taken" && $4 + 0 > 0) taken[key]
    next
}
/^ *[-#=0-9][^:]*: *[0-9]+:/ {
    split($0, field, ":")
    line = field[2] + 0
    count = field[1]
    gsub(/ /, "", count)
    if (match($0, /\[SECTION\] [a-z0-9_]+\/[a-z0-9_]+/)) section[line] = substr($0, RSTART + 10, RLENGTH - 10)
    if (count == "-") next
    lines[line]
    if (!(line in owner)) owner[line] = name
    if (count + 0 > 0) reached[line]
}
END {
    for (l in section) most = l + 0 > most ? l + 0 : most
    for (l in lines) {
        ++line_count
        if (l in reached) ++line_reached
        else { ++gap[owner[l]]; if (!(owner[l] in first) || l + 0 < first[owner[l]]) first[owner[l]] = l + 0 }
    }
    for (b in branches) { ++branch_count; if (b in taken) ++branch_taken }
    sort = "sort -k1,1rn | head -25"
    printf "lines %.1f %% (%d of %d), branches %.1f %% (%d of %d)\n", 100 * line_reached / line_count, line_reached,
        line_count, 100 * branch_taken / branch_count, branch_taken, branch_count
    print "lines that nothing reached, function, its first such line in finetune.h:"
    fflush()
    for (f in gap) printf "%5d  %s  %d\n", gap[f], f, first[f] | sort
    close(sort)
}
