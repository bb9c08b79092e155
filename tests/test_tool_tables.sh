#!/bin/sh
# The command-line tool on tables as people have them, on names of classes and of files, and on output
# that goes nowhere.
passed=0 failed=0 skipped=0
export FINETUNE_CACHE=none
tool=$PWD/build/finetune
work=build/tool_tables
rm -rf $work
mkdir -p $work
cd $work || exit 1

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
says() { # says PATTERN COMMAND...: ends well, and what it prints holds the pattern
    pattern=$1; shift
    if "$@" >out.txt 2>err.txt && cat out.txt err.txt | grep -q -- "$pattern"; then ok
    else bad "$pattern: $*"; cat out.txt err.txt | tail -n 3; fi
}
fails() { # fails STATUS WORD COMMAND...
    want=$1 word=$2; shift 2
    "$@" >out.txt 2>err.txt
    status=$?
    if [ $status -eq "$want" ] && grep '^finetune: ' err.txt | grep -q -- "$word"; then ok
    else bad "status $status, wanted $want with \"$word\": $*"; head -3 err.txt; fi
}
train() { "$tool" train --epochs 1 --hidden 8 --out m.safetensors "$@"; }

# ---- Columns: rows for 8 texts of 2 classes ----
rows() { # rows BEFORE SEPARATOR
    for text in 'bread lovely' 'bread awful' 'soup warm' 'soup cold' 'tea fine' 'tea bad' 'cake good' 'cake dull'; do
        case $text in *y | *m | *e | *d) label=pos ;; *) label=neg ;; esac
        case $text in *cold | *bad) label=neg ;; esac
        echo "$1$text$2$label"
    done
}
{ echo 'Text,Label'; rows '' ,; } >capitals.csv
{ echo 'headline,topic'; rows '' ,; } >headline.csv
{ echo 'id,title,words,label'; rows '7,' ',some,'; } >title.csv
{ echo 'some,what'; rows '' ,; } >unknown.csv
{ echo 'label	text'; rows '' '	' | awk -F'\t' '{ print $2 "\t" $1 }'; } >label_first.tsv
says '8 texts of 2 classes (neg, pos); text from column 1 "Text", label from column 2 "Label"; line 1 is a header' train --data capitals.csv
says '8 texts of 2 classes' train --data headline.csv
says '8 texts of 2 classes' train --data capitals.csv --text-column 1 --label-column 2
says '8 texts of 2 classes' train --data label_first.tsv
says '"title" and column 3 "words", joined by a space' train --data title.csv --text-column title,words
says '"title" and column 3 "words", joined by a space' train --data title.csv --text-column title --text-column words
fails 1 'is line 1 a header?.*--header yes or no' train --data unknown.csv
says '8 texts of 2 classes' train --data unknown.csv --header yes
says '9 texts of 3 classes' train --data unknown.csv --header no
fails 2 'header must be yes or no, not maybe' train --data unknown.csv --header maybe
fails 2 'header has no effect in predict' "$tool" predict --model m --header yes x

# ---- What was learnt is evaluated by the same rules, and by its own column names ----
train --data capitals.csv --quiet >out.txt
says ' of 8 right' "$tool" eval --model m.safetensors --data label_first.tsv
says ' of 8 right' "$tool" eval --model m.safetensors --data unknown.csv --header yes
fails 1 "the class 'what' is not one of the 2 classes" "$tool" eval --model m.safetensors --data unknown.csv

# ---- Faults, with the line ----
printf 'text,label\nbread,\nsoup,neg\n' >empty.csv
fails 1 'empty.csv: line 2: the label is empty' train --data empty.csv
printf 'label,text\npos,good\nneg,"bad\npos,fine\n' >quote.csv
fails 1 'quote.csv: line 3: the quote that opens here is never closed' train --data quote.csv
printf 'text,label\ngood\0,pos\nbad,neg\n' >zero.csv
fails 1 'zero.csv: not a text: its byte 15 is zero, on line 2' train --data zero.csv
printf 'text,label\ngood, really,pos\n' >comma.csv
fails 1 'comma.csv: line 2 has 3 columns, line 1 has 2' train --data comma.csv
printf '{"text": "a", "label": 1}\n{"text": "b", "label": [2]}\n' >nested.jsonl
fails 1 'nested.jsonl: line 2: "label" is a list' train --data nested.jsonl
printf '\377\376t\0e\0x\0t\0\t\0l\0a\0b\0e\0l\0\n\0a\0\t\0y\0\n\0b\0\t\0n\0\n\0' >utf16.tsv
says '2 texts of 2 classes (n, y)' train --data utf16.tsv

# ---- A language model of a table learns its texts, whichever column they are in ----
for file in label_first.tsv capitals.csv; do
    says '8 texts; text from column' "$tool" train --data $file --language-model --words --streams 2 --steps 3 \
        --hidden 8 --epochs 1 --out lm.safetensors
    tr -d '\0' <lm.safetensors | grep -q bread && ok || bad "$file: bread is no word of it"
    tr -d '\0' <lm.safetensors | grep -q '"pos\|"neg' && bad "$file: it learns the labels" || ok
done

# ---- A long text is cut in prediction as in evaluation ----
"$tool" train --data capitals.csv --hidden 8 --epochs 30 --seed 1 --quiet --out long.safetensors >out.txt
{ awk 'BEGIN { for (i = 0; i < 512; ++i) printf "lovely "; for (i = 0; i < 900; ++i) printf "awful " }'; echo; } >long.txt
{ echo 'text,label'; tr -d '\n' <long.txt; echo ,neg; } >long.csv
for length in 512 20; do
    "$tool" eval --model long.safetensors --data long.csv --json --max-length $length >out.txt 2>err.txt
    grep -q "1 of the texts are longer than $length tokens" err.txt && ok || bad "eval does not say that it cuts"
    want=$(sed 's/.*"guess": \("[a-z]*"\), "probability": \([0-9.]*\).*/\1 \2/' out.txt)
    "$tool" predict --model long.safetensors --json --top 1 --max-length $length <long.txt >out.txt 2>err.txt
    grep -q "the text has 1412 tokens: only the first $length are read" err.txt && ok || bad "predict does not say that it cuts"
    got=$(sed 's/.*"class": \("[a-z]*"\), .*"probability": \([0-9.]*\).*/\1 \2/' out.txt)
    [ -n "$got" ] && [ "$got" = "$want" ] && ok || bad "$length tokens: eval $want, predict $got"
done
fails 2 'max-length has no effect here' train --data label_first.tsv --language-model --max-length 3
train --data capitals.csv --max-length 1 --quiet >out.txt
says 'the text has 2 tokens: only the first 1 are read' "$tool" predict --model m.safetensors 'bread lovely'

# ---- Names of classes: a network without any, and what --labels makes of it ----
cat >net.c <<'EOF'
#define FINETUNE_NO_SIMD
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
int main(void)
{
    ft_desc desc;
    ft_network_options network;
    ft_save_options save;
    ft_model *m;
    memset(&desc, 0, sizeof desc);
    memset(&network, 0, sizeof network);
    memset(&save, 0, sizeof save);
    m = ft_create(desc);
    network.classes = 3;
    ft_network(m, "resnet20", network);
    ft_save(m, "unnamed.safetensors", save);
    return ft_error(m);
}
EOF
${CC:-cc} -std=c99 -O0 -I../.. net.c -o net -lm -pthread && ./net || bad "no network without names"
{ printf 'P6 32 32 255\n'; head -c 3072 /dev/zero | tr '\0' '@'; } >one.ppm
says 'class [012]' "$tool" predict --model unnamed.safetensors one.ppm
grep -q 'unnamed.safetensors has no names for its 3 classes: they are shown as numbers (--labels FILE names them)' err.txt && ok ||
    bad "missing names are not said"
says 'missing     class names .*--labels' "$tool" info unnamed.safetensors
printf 'n01\ttench, Tinca tinca\nn02\tcrane\nn03\tcrane, big bird\n' >ids.txt
printf '\357\273\277one \r\ntwo words, and more\r\nthree\r\n\r\n' >plain.txt
says 'tench [0-9.]* %' "$tool" predict --model unnamed.safetensors --labels ids.txt one.ppm
grep -q 'crane (n02) ' out.txt && grep -q 'crane (n03) ' out.txt && ! grep -q 'no names' err.txt && ok || bad "$(cat out.txt err.txt)"
says 'two words, and more [0-9.]* %' "$tool" predict --model unnamed.safetensors --labels plain.txt one.ppm
grep -q 'one [0-9]' out.txt && grep -q 'three [0-9]' out.txt && ok || bad "$(cat out.txt)"
says 'written' "$tool" convert --model unnamed.safetensors --labels ids.txt --out named.safetensors
says 'output      3 classes: tench, crane (n02), crane (n03)$' "$tool" info named.safetensors
printf 'a\nb\n' >few.txt
printf 'a\nb\na\n' >twice.txt
printf 'a\n\nb\nc\n' >hole.txt
printf 'a\nb\0\nc\n' >zero.txt
printf 'a\nb\377\nc\n' >latin.txt
fails 1 'few.txt: 2 names, but the model has 3 classes' "$tool" predict --model unnamed.safetensors --labels few.txt one.ppm
fails 1 'twice.txt: line 3: it is already the name of another class' "$tool" predict --model unnamed.safetensors --labels twice.txt one.ppm
fails 1 'hole.txt: line 2: it is empty' "$tool" convert --model unnamed.safetensors --labels hole.txt --out x.safetensors
fails 1 'zero.txt: it contains a zero byte' "$tool" predict --model unnamed.safetensors --labels zero.txt one.ppm
fails 1 'latin.txt: it is not UTF-8' "$tool" predict --model unnamed.safetensors --labels latin.txt one.ppm
fails 1 'nothing.txt: file not found' "$tool" predict --model unnamed.safetensors --labels nothing.txt one.ppm
fails 1 'few.txt: the model has no classes to name' "$tool" convert --model lm.safetensors --labels few.txt --out x.safetensors
for class in one three 'two words, and more'; do
    mkdir -p "photos/$class"
    for i in 1 2 3 4; do
        { printf 'P6 32 32 255\n'; tail -c +$((5000 * i + ${#class})) "$tool" | head -c 3072; } >"photos/$class/$i.ppm"
    done
done
says ' of 12 right' "$tool" eval --model unnamed.safetensors --data photos
grep -q 'has no names for its 3 classes' err.txt && ok || bad "eval does not say that names are missing"
mkdir -p two && cp -r photos/one photos/three two
fails 1 'two: has 2 classes, but the model has 3, without names' "$tool" eval --model unnamed.safetensors --data two
printf 'one\nthree\ntwo words, and more\n' >sorted.txt
says 'written' "$tool" train --model unnamed.safetensors --labels sorted.txt --data photos --freeze 'layer*' --epochs 1 --out kept.safetensors
says 'output      3 classes: one, three, two words, and more$' "$tool" info kept.safetensors
fails 2 "labels has no effect here: the data has 3 classes of its own (the first is 'one')" \
    "$tool" train --model unnamed.safetensors --labels ids.txt --data photos --epochs 1 --out x.safetensors

# ---- Output and input that go nowhere, or come from nowhere ----
train --data capitals.csv --quiet >out.txt
fails 1 'standard input: cannot be read' "$tool" predict --model m.safetensors <&-
fails 1 'standard input: cannot be read' "$tool" predict --model m.safetensors <.
says 'standard input is empty' "$tool" predict --model m.safetensors </dev/null
printf 'bread\0 awful\nbread lovely\n' >zeros.txt
fails 1 'standard input: line 1 contains a zero byte' "$tool" predict --model m.safetensors <zeros.txt
grep -q '^bread lovely: ' out.txt && ok || bad "the lines behind it get no answer"
if [ -c /dev/full ]; then
    for verb in 'predict --model m.safetensors bread' 'info m.safetensors' 'eval --model m.safetensors --data capitals.csv' --help --version; do
        "$tool" $verb >/dev/full 2>err.txt
        [ $? -eq 1 ] && grep -q '^finetune: standard output: cannot be written' err.txt && ok || bad "$verb: $(cat err.txt)"
    done
else skipped=$((skipped + 1)); echo "skipped: there is no /dev/full"; fi

# ---- The progress line is not wider than the terminal ----
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    for columns in 80 60 30; do
        script -qec "stty cols $columns; $tool train --data capitals.csv --epochs 60 --hidden 64 --out m.safetensors" /dev/null |
            tr '\r' '\n' | sed 's/\x1b.*//' | grep '[0-9]/60' >lines.txt
        awk -v most=$columns 'length($0) >= most { bad = 1 } END { exit bad || NR == 0 }' lines.txt && ok ||
            bad "$columns columns: $(awk '{ print length($0) ": " $0 }' lines.txt | head -2)"
    done
else skipped=$((skipped + 1)); echo "skipped: script(1) is not there"; fi

fails 2 'groups must be auto, name or none, not tracks' train --data x --model m --groups tracks
fails 2 'groups has no effect here: it is for pictures' train --data capitals.csv --groups none

echo "test_tool_tables: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
