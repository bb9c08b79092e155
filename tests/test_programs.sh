#!/bin/sh
# Programs that were written from the README and the manual alone: pictures in C, arrays in C++, texts
# in C. They must compile without a warning, run, and print what such a program should.
passed=0 failed=0 skipped=0
out=build/programs
mkdir -p $out
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
warnings="-Wall -Wextra -Wpedantic -Werror"

# program NAME COMPILER: builds and runs it; what it prints is in $out/NAME.txt
program() {
    name=${1%.*}
    if $2 $warnings -O1 -I. tests/programs/$1 build/finetune.o -o $out/$name -lm -pthread >$out/$name.txt 2>&1 &&
        timeout 100 $out/$name >$out/$name.txt 2>&1; then ok
    else bad "tests/programs/$1"; head -5 $out/$name.txt; fi
}
says() { grep -q "$2" $out/$1.txt && ok || { bad "$1: no line '$2'"; tail -5 $out/$1.txt; }; }

program pictures.c "${CC:-cc} -std=c99"
# At least 60 % right (271 of 400 where it was written), the same on the diagonal of the confusion.
right=$(sed -n 's/^\([0-9]*\) of 400 right, .*/\1/p' $out/pictures.txt)
[ "${right:-0}" -ge 240 ] && ok || bad "pictures: $right of 400 right"
says pictures "of 400 right, $right on the diagonal"
# A file, its bytes and its pixels are one picture: three lines alike.
tail -3 $out/pictures.txt | grep -q '^[a-z]* [0-9.]* %$' && [ "$(tail -3 $out/pictures.txt | sort -u | wc -l)" -eq 1 ] && ok ||
    bad "pictures: other predictions from file, memory and pixels"

program texts.c "${CC:-cc} -std=c99"
right=$(sed -n 's/.*; \([0-9]*\) of 300 right.*/\1/p' $out/texts.txt)
[ "${right:-0}" -ge 290 ] && ok || bad "texts: $right of 300 right"
says texts "^a wrong path: IO: examples/text/nothing.tsv: "
says texts "^a wrong column: FORMAT: .*sentence"
says texts "^a wrong model path: IO: build/nothing.safetensors: "
says texts "^a NULL model: MEMORY: "

if command -v g++ >/dev/null; then
    program arrays.cpp "g++ -std=c++11"
    held=$(sed -n 's/.*held back \([0-9]*\) of 100 right.*/\1/p' $out/arrays.txt)
    [ "${held:-0}" -ge 95 ] && ok || bad "arrays: $held of 100 held-back points right"
    awk '/^sine 1500: / { sub(/.*worst /, ""); found = $1 + 0 < 0.03 } END { exit !found }' $out/arrays.txt && ok ||
        bad "arrays: the sine is not learnt"
else skipped=$((skipped + 1)); echo "skipped: g++ is not installed"; fi

# Examples that teach: what they print is in docs/examples.md, below their name; counts may be off by a
# few where instructions round otherwise.
documented() { # EXAMPLE: builds it, and takes from the page what it prints
    awk -v name="## $1.c" '$0 == name { here = 1 } /^## / && $0 != name { here = 0 } here && /^```/ { inside = !inside; next }
        here && inside' docs/examples.md >$out/$1.want
    sed '/STB_IMAGE_IMPLEMENTATION/d' examples/$1.c >$out/$1.c # build/finetune.o has it
    ${CC:-cc} -std=c99 $warnings -O1 -DFINETUNE__IMPLEMENTED -I. $out/$1.c build/finetune.o -o $out/$1 -lm -pthread
}
for example in line_fit what_to_adjust ${LONG:+finetune_resnet}; do
    documented $example && $out/$example $out/$example.svg >$out/$example.txt && [ -s $out/$example.want ] &&
        paste -d '\n' $out/$example.want $out/$example.txt | awk '{ last = $NF; $NF = "" }
            NR % 2 { want = $0; number = last; next }
            $0 != want || (last != number && (number !~ /^[0-9]+$/ || last - number > 8 || number - last > 8)) { off = 1 }
            END { exit off || NR == 0 || NR % 2 }' && ok || bad "examples/$example.c: not what docs/examples.md has"
done
rm -f finetuned.safetensors
# The same of keras_cnn.c, whose counts may be off by more: at least 80 % are right with the base, and 90 % with the
# adjusted network. Of MNIST's last 2,000 digits the adjusted one gets 98.5 %.
right() { sed -n "s/^$1: right of .*: //p" $out/keras_cnn.txt; }
if [ -n "$LONG" ]; then
    documented keras_cnn && $out/keras_cnn >$out/keras_cnn.txt && sed 's/: [0-9]*$//' $out/keras_cnn.want >$out/want.txt &&
        sed 's/: [0-9]*$//' $out/keras_cnn.txt | cmp -s - $out/want.txt && [ "$(right base)" -ge 400 ] &&
        [ "$(right adjusted)" -ge 450 ] && ok || { bad "examples/keras_cnn.c: not what docs/examples.md has"; cat $out/keras_cnn.txt; }
    mnist=${FINETUNE_DATA:-../shared/data}/images/mnist/t10k
    if [ -e $mnist-images-idx3-ubyte.gz ]; then
        gzip -dc $mnist-images-idx3-ubyte.gz >$out/digits && gzip -dc $mnist-labels-idx1-ubyte.gz >$out/labels &&
            $out/keras_cnn $out/digits $out/labels >$out/keras_cnn.txt && [ "$(right adjusted)" -ge 1970 ] && ok ||
            { bad "examples/keras_cnn.c on MNIST"; cat $out/keras_cnn.txt; }
    else skipped=$((skipped + 1)); echo "skipped: no $mnist-images-idx3-ubyte.gz"; fi
fi
grep -c '<polyline' $out/what_to_adjust.svg | grep -qx 13 && ok || bad "what_to_adjust.svg: not 13 curves"

echo "test_programs: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
