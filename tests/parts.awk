# Which names each part of src/ defines and uses, and whether data flows one way. Called by
# tests/check_header.sh:
#     awk -f parts.awk src/finetune.h form=expanded E1 [E2 ...] form=source PART ...
# E1, E2: what `cc -E -dD` makes of src/finetune.h, each in another configuration; that is where
# names that macros paste together are found. PARTs: the files themselves, in the order of the list.
# Prints a line for each fault, and the includes that each part ought to have to FOLDER/PART when
# called with -v includes=FOLDER.
function report(text) { if (!(text in reported)) { reported[text] = 1; print text; faults += 1 } }

# The first definition of a type or macro counts, and the last of a function: declarations and the
# stand-ins for what is left out come before.
function define(name, is_function) {
    if (name !~ /^(ft_|FT_|FINETUNE_)/) return
    defined_in[name, place] = 1
    if (!(name in defined) || (is_function ? place > defined[name] || !functions[name] : \
                               place < defined[name] && !functions[name])) {
        defined[name] = place
        functions[name] = is_function
    }
}
function use(name, how) {
    if (name !~ /^(ft_|FT_|FINETUNE_)/) return
    if (!((name, place, how) in used)) { used[name, place, how] = FNR; uses += 1 }
}

# ---- Expanded text: statements at depth 0, token by token ----
function token(t) {
    if (t ~ /^[A-Za-z_]/) {
        use(t, "expanded")
        if (t == "__attribute__") { after_attribute = 1; return }
        if (depth == 0 && round == 0) {
            if (first == "") first = t
            if (t == "struct" || t == "union" || t == "enum") kind = t
            else if (kind != "" && tag == "" && first_brace == 0) tag = t
            word = t
        } else if (in_pointer && round == 1 && pointer == "" && t != "const") pointer = t
        else if (depth == 1 && kind == "enum" && round == 0 && (last == "{" || last == ",")) define(t, 0)
        last = t
        return
    }
    if (t == "(") {
        if (after_attribute) { attribute_round = round; in_attribute = 1; after_attribute = 0 }
        if (!in_attribute && depth == 0 && round == 0 && call == "" && !assigned) call = word
        round += 1
    } else if (t == ")") {
        round -= 1
        if (in_attribute && round == attribute_round) in_attribute = 0
    } else if (t == "{") {
        if (depth == 0) {
            first_brace = 1
            if (kind != "" && tag != "" && call == "" && !assigned) define(tag, 0)
            if (call != "" && !assigned && first != "typedef") { define(call, 1); body = 1 }
        }
        depth += 1
    } else if (t == "}") {
        depth -= 1
        if (depth == 0 && body) clear()
    } else if (t == "*") { if (last == "(" && depth == 0 && round == 1) in_pointer = 1 }
    else if (t == "=" && depth == 0 && round == 0) { if (!assigned) define(name_of(), 0); assigned = 1 }
    else if (t == "[" && depth == 0 && round == 0) { if (!assigned && bracket == "") bracket = word }
    else if (t == ";" && depth == 0 && round == 0) {
        if (first == "typedef") {
            define(pointer == "" && call != "" ? call : name_of(), 0)
        } else if (call == "" && !assigned && !(kind != "" && tag == word)) define(name_of(), 0)
        else if (call != "" && !assigned && first == "static") forward[call] = place
        clear()
    }
    last = t
}
function name_of() { return pointer != "" ? pointer : bracket != "" ? bracket : word }
function clear() {
    first = kind = tag = word = call = pointer = bracket = ""
    assigned = in_pointer = first_brace = body = in_attribute = after_attribute = depth = round = 0
}
function expanded(line) {
    gsub(/"([^"\\]|\\.)*"/, " ", line)
    gsub(/'([^'\\]|\\.)*'/, " ", line)
    while (match(line, /[A-Za-z_][A-Za-z0-9_]*|[][(){};=,*]/)) {
        token(substr(line, RSTART, RLENGTH))
        line = substr(line, RSTART + RLENGTH)
    }
}

# ---- Source text: without comments and strings ----
function bare(line,    at) {
    gsub(/\\./, " ", line)
    while (1) {
        if (comment) {
            at = index(line, "*/")
            if (!at) return ""
            line = substr(line, at + 2)
            comment = 0
        }
        gsub(/'"'/, " ", line)
        if (!match(line, /\/\*|"[^"]*"/)) return kept_text line
        if (substr(line, RSTART, 1) == "\"") line = substr(line, 1, RSTART - 1) " " substr(line, RSTART + RLENGTH)
        else {
            at = RSTART
            if ((end = index(substr(line, at), "*/")) > 0) line = substr(line, 1, at - 1) " " substr(line, at + end + 1)
            else { comment = 1; return substr(line, 1, at - 1) }
        }
    }
}
function source(line,    rest, t, pasted) {
    is_macro = macro_goes_on || line ~ /^ *# *define/
    macro_goes_on = is_macro && line ~ /\\$/
    line = bare(line)
    if (line ~ /^ *# *define/) {
        t = line
        sub(/^ *# *define +/, "", t)
        sub(/[^A-Za-z0-9_].*/, "", t)
        define(t, 0)
    } else if (match(line, /^[a-z][A-Za-z0-9_ *]*[ *]ft_[a-z0-9_]*\(/) && line !~ /;|^typedef|^return/) {
        t = substr(line, 1, RLENGTH - 1)
        sub(/.*[ *]/, "", t)
        define(t, 1)
    }
    if (line ~ /^ *# *(if|ifdef|ifndef)/) conditions += 1
    if (line ~ /^ *# *endif/) conditions -= 1
    if (line ~ /^ *# *pragma.* push_options/) pushed += 1
    if (line ~ /^ *# *pragma.* pop_options/) pushed -= 1
    while (match(line, /(## *)?[A-Za-z_][A-Za-z0-9_]*( *##)?/)) {
        t = substr(line, RSTART, RLENGTH)
        line = substr(line, RSTART + RLENGTH)
        if (index(t, "##") == 0) use(t, is_macro ? "macro" : "source")
    }
}

BEGIN { clear() }
FNR == 1 { file_number += 1 }
file_number == 1 {
    if ($0 !~ /^#include "[a-z0-9_]+\/[a-z0-9_]+\.h"$/) next
    split($0, quoted, "\"")
    part[++parts] = quoted[2]
    number[quoted[2]] = parts
    folder = quoted[2]; sub(/\/.*/, "", folder)
    if (folder != last_folder && folder in folders) report("src/finetune.h: " quoted[2] ": the parts of " folder "/ do not stand together")
    folders[folder] = 1
    last_folder = folder
    next
}
form == "expanded" {
    if (/^# [0-9]+ "/) {
        file = $0
        sub(/^# [0-9]+ "/, "", file); sub(/".*/, "", file); sub(/^.*src\//, "", file)
        place = number[file]
        next
    }
    if (!place) next
    if (/^#define /) { t = $2; sub(/\(.*/, "", t); define(t, 0); next }
    if (/^#/) next
    expanded($0)
    next
}
form == "source" {
    if (FNR == 1) {
        end_of_part()
        file = FILENAME; sub(/^.*src\//, "", file)
        place = number[file]
        comment = macro_goes_on = 0
        if (!place) report("src/" file ": src/finetune.h does not include it")
        if ($0 != "#pragma once") report("src/" file ": does not begin with #pragma once")
        includes_of[place] = ""
    }
    if (/^#include "[a-z0-9_]+\/[a-z0-9_]+\.h"$/) { split($0, quoted, "\""); has[place, quoted[2]] = 1; next }
    if (/^   \[SECTION\] /) {
        banner = $2; banners += 1
        if (banner ".h" != file ":" && banner != substr(file, 1, length(file) - 2) ":") report("src/" file ": its banner says " banner)
    }
    source($0)
}
function end_of_part() {
    if (!file || form != "source" || !place) return
    if (conditions) report("src/" file ": an #if is not closed within it")
    if (pushed) report("src/" file ": a pragma push is not popped within it")
    if (banners != 1) report("src/" file ": " banners + 0 " [SECTION] lines, not one")
    conditions = pushed = banners = 0
}
END {
    end_of_part()
    for (key in used) {
        split(key, k, SUBSEP)
        if (!(k[1] in defined)) continue
        to = defined[k[1]]
        from = k[2]
        if (to > from && !((k[1], from) in defined_in) && part[from] !~ /^interface\// && !(k[3] == "macro" && part[from] == "operators/table.h")) \
            if (k[3] != "expanded" || !((k[1], from, "source") in used)) \
                report("src/" part[from] (k[3] == "expanded" ? "" : ":" used[key]) ": uses " k[1] ", which " part[to] " defines later")
        if (to < from && k[3] != "expanded") wants[from, to] = wants[from, to] == "" ? k[1] : wants[from, to]
    }
    for (name in forward) if (defined[name] >= forward[name]) report("src/" part[forward[name]] ": declares " name " before its definition in " part[defined[name]])
    for (i = 1; i <= parts; ++i) {
        if (includes) printf "" >(includes "/" i)
        for (j = 1; j <= parts; ++j) {
            if ((i, j) in wants) {
                if (!((i, part[j]) in has)) report("src/" part[i] ": does not include \"" part[j] "\", whose " wants[i, j] " it uses")
                if (includes) print "#include \"" part[j] "\"" >(includes "/" i)
            } else if ((i, part[j]) in has) report("src/" part[i] ": includes \"" part[j] "\" and uses nothing of it")
        }
    }
    for (name in defined) names += 1
    if (parts < 50 || names < 2000 || uses < 10000) report("only " parts + 0 " parts, " names + 0 " names and " uses + 0 " uses were found: this check is broken")
    else print "parts: " parts ", names: " names ", uses: " uses
    exit faults > 0
}
