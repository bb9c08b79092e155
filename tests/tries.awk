# Writes a call with NULL of each function that builds nodes, for test_arguments.c; make header does so:
#     awk -f tests/tries.awk src/interface/operators.h >tests/tries.h
# The model is `m`, nodes are `x`, sizes 1, options zero, and other pointers NULL.
function argument(text) {
    if (text ~ /^ft_model \*/) return "m"
    if (text ~ /\*/) return "NULL"
    if (text ~ /^ft_node /) return "x"
    if (text ~ /_options options$/) { options = text; sub(/ options$/, "", options); return "zero" }
    return "1"
}
BEGIN { print "/* tries.h - by tests/tries.awk: part of test_arguments.c. */" }
{ gsub(/\/\*[^*]*\*\//, "") }
/^FINETUNE_API / { call = "" ; inside = 1 }
inside { call = call " " $0 }
inside && /;/ {
    inside = 0
    options = ""
    name = call
    sub(/\(.*/, "", name)
    sub(/.*[ *]/, "", name)
    sub(/^[^(]*\(/, "", call)
    sub(/\);.*/, "", call)
    gsub(/  +/, " ", call)
    count = split(call, parameter, /, */)
    for (i = 1; i <= count; ++i) arguments = (i == 1 ? "" : arguments ", ") argument(parameter[i])
    print "{ " (options == "" ? "" : "static " options " zero; ") "TRY(" name "(" arguments ")); }"
}
