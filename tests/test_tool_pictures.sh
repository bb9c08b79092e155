#!/bin/sh
# The command-line tool over picture folders as people have them: what is left out is said in a line,
# pipes make nothing wait, names reach a terminal as text, and --memory-budget is kept.
passed=0 failed=0 skipped=0
tool=$PWD/build/finetune
work=$PWD/build/tool_pictures
vision=$PWD/tests/golden/vision
golden=$PWD/tests/golden/pictures.safetensors
export FINETUNE_CACHE=none
chmod -R u+rwx "$work" 2>/dev/null
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }

# says WORDS COMMAND...: succeeds, and what it prints holds WORDS
says() {
    words=$1; shift
    timeout 60 "$@" >out.txt 2>&1
    status=$?
    [ $status -eq 0 ] && grep -qF -- "$words" out.txt && ok || { bad "status $status, wanted \"$words\": $*"; head -5 out.txt; }
}

# fails STATUS WORDS COMMAND...: ends with that status, and says WORDS in one line
fails() {
    want=$1 words=$2; shift 2
    timeout 60 "$@" >out.txt 2>err.txt
    status=$?
    lines=$(grep -c '^finetune: ' err.txt)
    [ $status -eq "$want" ] && grep -qF -- "$words" err.txt && { [ "$lines" -eq 1 ] || [ "$want" -eq 2 ]; } && ok ||
        { bad "status $status, wanted $want with \"$words\": $*"; head -3 err.txt; }
}

plain() { # no byte in what came that a terminal would obey
    LC_ALL=C tr -d '\n\40-\176\200-\377' <"$1" | grep -q . && bad "control characters in $1 ($2)" || ok
}

# ---- A network of two classes with names that a terminal would obey; pictures ----
cat >base.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include "finetune.h"
static void file_of(ft_file *file, const char *name)
{
    ft_tensor_info info = ft_file_tensor(file, ft_file_find(file, name));
    void *bytes = malloc((size_t)info.bytes);
    FILE *to = fopen(name + 5, "wb");
    ft_file_read(file, ft_file_find(file, name), bytes, (size_t)info.bytes);
    if (to) fwrite(bytes, 1, (size_t)info.bytes, to);
    if (to) fclose(to);
    free(bytes);
}
int main(int count, char **words)
{
    const char *names[2] = {"\x1b[2J\x1b]0;title\x07 stop", "ca\xff" "fe\x9b 1"};
    ft_input_options in = {.size = {3, 8, 8}};
    ft_conv2d_options conv = {.kernel = {3, 3}};
    ft_preprocessing p = {.width = 8, .height = 8, .channels = 3, .std = {1, 1, 1}};
    ft_model *m = ft_create((ft_desc){0});
    ft_file *file = ft_file_open(m, words[count - 1], (ft_weights_options){0});
    ft_node x = ft_conv2d(m, "conv\x1b[31m", ft_input(m, "input", in), 4, conv);
    x = ft_linear(m, "head", ft_flatten(m, "flat", ft_global_avg_pool(m, "pool", x)), 2,
                  (ft_linear_options){0});
    ft_set_output(m, x);
    ft_set_loss(m, ft_cross_entropy(m, "loss", x, ft_input(m, "labels", (ft_input_options){FT_I32}),
                                    (ft_loss_options){0}));
    ft_set_preprocessing(m, p);
    ft_set_class_names(m, 2, names);
    ft_save(m, "base.safetensors", (ft_save_options){0});
    file_of(file, "file/cmyk.jpg");
    file_of(file, "file/cmyk_unmarked.jpg");
    file_of(file, "file/orientation1.jpg");
    file_of(file, "file/orientation6.jpg");
    if (ft_error(m)) fprintf(stderr, "%s\n", ft_error_text(m));
    return ft_error(m);
}
END
if [ -f ../finetune.o ]; then with=../finetune.o; else with="-DFINETUNE_IMPLEMENTATION -DFINETUNE_NO_SIMD"; fi
${CC:-cc} -std=c99 -I../.. base.c $with -o base -lm -pthread && ./base "$golden" && ok || bad "a base network"
value() { awk "BEGIN { for (i = 0; i < 4; ++i) for (c = 0; c < 3; ++c) printf \"\\\\\\\\%03o\", ($1 + 40 * i + 30 * c) % 256 }"; }
ppm() { { printf 'P6\n2 2\n255\n'; printf "$(value "$2" | sed 's/\\\\/\\/g')"; } >"$1"; }
mkdir -p photos/a/inner photos/b
for n in 1 2 3 4 5 6; do
    ppm photos/a/$n.ppm $((3 * n))
    ppm photos/b/$n.ppm $((100 + 3 * n))
done
ppm photos/a/inner/7.ppm 9

# ---- Pictures ----
"$tool" predict --model base.safetensors --json cmyk.jpg cmyk_unmarked.jpg orientation1.jpg orientation6.jpg >out.txt 2>err.txt
[ "$(sed 's/"file": "[^"]*"//' out.txt | sed -n '1p;2p' | uniq | wc -l)" -eq 1 ] && [ "$(wc -l <out.txt)" -eq 4 ] && ok ||
    bad "CMYK with and without its marker: $(cat out.txt err.txt)"
"$tool" predict --model base.safetensors --json cmyk.jpg gone.jpg cmyk.jpg >out.txt 2>err.txt
[ $? -eq 1 ] && [ "$(wc -l <out.txt)" -eq 3 ] && sed -n 2p out.txt | grep -q '^{"file": "gone.jpg", "error": "gone.jpg: cannot be opened.*"}$' &&
    [ "$(sed -n 1p out.txt)" = "$(sed -n 3p out.txt)" ] && ok || bad "predict --json of what is not there: $(cat out.txt err.txt)"

# ---- A vision transformer from its folder; one of another size, or without the number of its heads ----
mv photos/a/inner inner.away
says "as requested: nothing frozen" "$tool" train --model "$vision/vit" --image-size 20 --data photos --epochs 1 --freeze "" --out m.safetensors
grep -q "the positions of 3 x 3 patches are resized to 5 x 5" out.txt && ok || bad "positions: $(cat out.txt)"
says "vit" "$tool" info --model m.safetensors
fails 1 "--image-size 12: this network has pictures of 20 pixels" \
    "$tool" eval --model m.safetensors --image-size 12 --data photos
fails 1 "the number of heads is needed" "$tool" info --model "$vision/timm.safetensors"
says "vit" "$tool" info --model "$vision/timm.safetensors" --heads 4
mv inner.away photos/a/inner

# ---- Folders ----
says "photos/a: skipped 1 folder inside this class, with its pictures: inner" \
    "$tool" train --model base.safetensors --data photos --epochs 1 --out m.safetensors
mkfifo photos/a/pipe.ppm photos/pipe pipe
ln -s nowhere photos/b/gone.ppm
says "pipe.ppm: skipped: cannot be opened (not found, no permission, or not a regular file)" \
    "$tool" train --model base.safetensors --data photos --epochs 1 --out m.safetensors
grep -qF "photos: skipped 1 file outside the class folders: pipe" out.txt &&
    grep -qF "gone.ppm: skipped: cannot be opened" out.txt && grep -q "12 pictures of 2 classes; 2 could not be read" out.txt &&
    ok || bad "a pipe and a link to nowhere: $(cat out.txt)"
rm photos/a/pipe.ppm photos/pipe photos/b/gone.ppm
for reader in "info --model" "convert --out x.safetensors --model" "predict --model base.safetensors" "eval --model base.safetensors --data"; do
    fails 1 "pipe" "$tool" $reader pipe
done
fails 1 "pipe" "$tool" train --model base.safetensors --data pipe --out m.safetensors
fails 2 "pipe" "$tool" train --data pipe --out m.safetensors

# ---- Names ----
esc=$(printf '\033')
says '\x1B[2J\x1B]0;title\x07 stop' "$tool" predict --model base.safetensors photos/a/1.ppm
plain out.txt predict
grep -qF 'ca\xFFfe\x9B 1' out.txt && ok || bad "bytes that are not UTF-8: $(cat -v out.txt)"
says 'conv\x1B[31m' "$tool" info --model base.safetensors
plain out.txt info
cp photos/a/1.ppm "${esc}[31m.ppm"
says '\x1B[31m.ppm:' "$tool" predict --model base.safetensors "${esc}[31m.ppm"
plain out.txt "predict, of a file name"
mkdir -p "names/${esc}c" "names/$(printf 'caf\351')"
cp photos/a/*.ppm "names/${esc}c/" && cp photos/b/*.ppm "names/$(printf 'caf\351')/"
says 'caf\xE9: the name of this folder is not UTF-8' "$tool" train --model base.safetensors --data names --epochs 1 --out names.safetensors
plain out.txt train
says "of 12 right" "$tool" eval --model names.safetensors --data names
says 'caf\xE9' "$tool" predict --model names.safetensors photos/b/1.ppm
printf 'text\tlabel\nfine day\t\033[31mgood\ndull day\tbad\nfine\t\033[31mgood\ndull\tbad\n' >texts.tsv
says '\x1B[31mgood' "$tool" train --data texts.tsv --val texts.tsv --epochs 1 --hidden 4 --lr 0.00000001 --worst 9 --out t.safetensors
plain out.txt "train, of texts"
tail -c +9 names.safetensors | head -c "$(od -An -tu4 -N4 names.safetensors | tr -d ' ')" >header.txt
plain header.txt "the JSON of a model file"
LC_ALL=C grep -q 'caf\\*xE9' header.txt && ok || bad "the class caf\xE9 is not in the model file: $(head -c 300 header.txt)"

# ---- Metrics, held-back samples, --report, --log-csv ----
cp names.safetensors '<b>&.safetensors'
says "  f1_macro " "$tool" eval --model '<b>&.safetensors' --data names --report report.html
plain report.html "the report"
grep -qF '&lt;b&gt;&amp;.safetensors' report.html && ! grep -qiE '<b>&|<script|https?:|<link|@import|url\(|src="[^d]' report.html && ok || bad "the report: names are escaped, nothing is loaded"
[ "$(tail -n 1 report.html)" = "</body></html>" ] && grep -q 'Confusion matrix' report.html && grep -q '<td>recall_macro</td>' report.html && ok || bad "the report is whole"
wrong=$(grep -c 'data:image/bmp;base64,Qk' report.html)
says "of 12 right" "$tool" eval --model names.safetensors --data names
[ "$(sed -n 's/ of 12 right.*//p' out.txt)" = $((12 - wrong)) ] && ok || bad "$wrong thumbnails of mistakes: $(head -1 out.txt)"
says '"metrics": {"accuracy": {"value": ' "$tool" eval --model names.safetensors --data names --json
says '"top5": null' "$tool" eval --model names.safetensors --data names --json
says 'held back: f1_macro ' "$tool" train --model base.safetensors --data names --freeze '' --epochs 3 --hold-back 0.5 --patience 3 --metric f1_macro --calibrate --log-csv log.csv --report train.html --out held.safetensors
[ "$(head -n 1 log.csv)" = "stage,epoch,learning_rate,loss,accuracy,held_back_loss,held_back_accuracy,metric,held_back_metric,seconds" ] && ok || bad "log.csv: $(head -n 1 log.csv)"
awk -F, 'NF != 10 || (NR > 1 && ($2 != NR - 1 || $8 != "f1_macro")) { wrong = 1 } END { exit wrong || NR != 4 }' log.csv && ok || bad "log.csv: $(cat log.csv)"
says 'starts from the beginning' "$tool" train --model base.safetensors --data names --freeze '' --epochs 2 --lr 0.002 --resume --log-csv log.csv --report rate.html --out held.safetensors
grep -q '<td>--lr</td><td>0.002</td>' rate.html && ok || bad "the report's learning rate: $(grep -e '--lr' rate.html)"
[ "$(grep -c '^stage,' log.csv) $(grep -c '^all,' log.csv)" = "1 5" ] && ok || bad "a run that continues adds to log.csv: $(cat log.csv)"
[ "$(grep -c '<svg' train.html)" = 4 ] && grep -q '<td>conv2d</td>' train.html && grep -q '<td>--patience</td><td>3</td>' train.html && ok || bad "the report of train: $(grep -c '<svg' train.html) curves"
fails 2 "--metric has no effect here: it is for --hold-back" "$tool" train --model base.safetensors --data names --metric f1_macro --out n.safetensors
fails 2 "there is none of this name; there are loss, entity_f1, accuracy" "$tool" train --model base.safetensors --data names --hold-back 0.5 --metric good --out n.safetensors
fails 2 "--hold-back must be a share" "$tool" train --model base.safetensors --data names --hold-back 1 --out n.safetensors
printf 'a O\n\nb B-x\n\nc O\n\nd B-x\n' >words.conll
fails 1 "ctc is a loss of labels without steps, and one class is the blank; here each word has its label" \
    "$tool" train --data words.conll --hidden 4 --epochs 1 --loss ctc --out n.safetensors
fails 2 "--calibrate has no effect here: it is for networks" "$tool" train --data words.conll --hidden 4 --hold-back 0.5 --calibrate --out n.safetensors
fails 1 "metric mae is not defined" "$tool" train --model base.safetensors --data names --hold-back 0.5 --metric mae --out n.safetensors
fails 1 "--report nowhere/r.html: cannot be written" "$tool" eval --model names.safetensors --data names --report nowhere/r.html
fails 1 "--log-csv nowhere/l.csv: cannot be written" "$tool" train --model base.safetensors --data names --log-csv nowhere/l.csv --out n.safetensors

# ---- Activations and losses exchanged by name ----
cat >net.json <<'END'
{"nodes":[{"op":"input","name":"input","shape":["N",3,8,8]},
{"op":"parameter","name":"conv.weight","shape":[4,3,3,3]},
{"op":"conv2d","name":"conv","inputs":["input","conv.weight"]},
{"op":"parameter","name":"bn.weight","shape":[4],"initialiser":"ones"},
{"op":"parameter","name":"bn.bias","shape":[4],"initialiser":"zeros"},
{"op":"buffer","name":"bn.running_mean","shape":[4],"initialiser":"zeros"},
{"op":"buffer","name":"bn.running_var","shape":[4],"initialiser":"ones"},
{"op":"batch_norm","name":"bn","inputs":["conv","bn.weight","bn.bias","bn.running_mean","bn.running_var"]},
{"op":"relu","name":"act","inputs":["bn"]},
{"op":"global_avg_pool","name":"pool","inputs":["act"]},{"op":"flatten","name":"flat","inputs":["pool"]},
{"op":"parameter","name":"fc.weight","shape":[2,4]},{"op":"parameter","name":"fc.bias","shape":[2],"fan":[4,2]},
{"op":"linear","name":"fc","inputs":["flat","fc.weight","fc.bias"]},
{"op":"input","name":"labels","type":"I32","shape":["N"]},
{"op":"cross_entropy","name":"loss","inputs":["fc","labels"]}],"output":"fc","loss":"loss","classes":["a","b"],
"preprocessing":{"width":8,"height":8,"channels":3,"std":[1,1,1]}}
END
swap="train --model net.json --allow-missing --data photos --epochs 1 --out swapped.safetensors"
"$tool" $swap --freeze "" --activation prelu --where "a*" --recalibrate --loss binary_cross_entropy >out.txt 2>err.txt && ok || bad "$(cat err.txt)"
for words in "before the change: " "1 activation is prelu now" "with them: " "1 batch norm recalibrated" "with new statistics: "; do
    grep -q "^$words" err.txt && ok || bad "not \"$words\": $(cat err.txt)"
done
"$tool" info --model swapped.safetensors --graph >out.txt
grep -q '"op":"prelu","name":"act"' out.txt && grep -q '"op":"binary_cross_entropy","name":"loss"' out.txt && ok || bad "$(cat out.txt)"
says "right" "$tool" eval --model swapped.safetensors --data photos
"$tool" predict --model swapped.safetensors --json photos/a/1.ppm >out.txt # each class by its own sigmoid
awk -F'"probability": ' '{ sum = $2 + $3; found = NF == 3 && $2 >= $3 && (sum < 0.999 || sum > 1.001) } END { exit !found }' out.txt && ok ||
    bad "probabilities that add up to 1: $(cat out.txt)"
says "written" "$tool" $swap --teacher swapped.safetensors --freeze ""
"$tool" info --model swapped.safetensors --graph >out.txt
grep -q 'teacher' out.txt && bad "a teacher in the file" || ok
fails 2 "--where zz: no activation of the network is called so" "$tool" $swap --activation gelu --where zz
fails 2 "--where has no effect here: it is for --activation" "$tool" $swap --where act
fails 2 "--recalibrate has no effect here: the network has no batch norm" \
    "$tool" train --model base.safetensors --data photos --epochs 1 --recalibrate --out n.safetensors
fails 1 "focus: unknown loss; it must be one of cross_entropy, focal" "$tool" $swap --loss focus
fails 1 "ctc is a loss of labels [N, S] of steps [N, T, classes], which the network does not read" "$tool" $swap --loss ctc

# ---- --memory-budget ----
for wrong in 5X -1 0 nan 1e6 M 5.5.5M 99999999999T; do
    fails 2 "after --memory-budget: $wrong (expected: bytes, such as 500M or 2G)" "$tool" predict --model base.safetensors --memory-budget $wrong photos/a/1.ppm
done
fails 2 "memory-budget has no effect in info" "$tool" info --model base.safetensors --memory-budget 1G
for enough in 50M 50m 50MB 50MiB 0.05G 51200K 52428800 52428800B; do
    says "photos/a/1.ppm: " "$tool" predict --model base.safetensors --memory-budget $enough photos/a/1.ppm
done
fails 1 "the memory budget of 2048 bytes is used up" "$tool" predict --model base.safetensors --memory-budget 2K photos/a/1.ppm
fails 1 "the memory budget of 2000 bytes is used up" "$tool" eval --model base.safetensors --memory-budget 2KB --data photos
fails 1 "memory budget of 20480 bytes" "$tool" train --model base.safetensors --memory-budget 20KiB --data photos --epochs 1 --out n.safetensors
[ ! -e n.safetensors ] && ok || bad "a model that there was no memory for"
{ printf 'BM\0\0\0\0\0\0\0\0\076\0\0\0\050\0\0\0\270\013\0\0\270\013\0\0\01\0\01\0'; head -c 24 /dev/zero
  printf '\0\0\0\0\377\377\377\0'; head -c 1128000 /dev/zero; } >large.bmp
fails 1 "large.bmp: decoding 3000 x 3000 pixels needs" "$tool" predict --model base.safetensors --memory-budget 10M large.bmp
cp large.bmp photos/b/
says "large.bmp: skipped: decoding its pixels needs more memory" \
    "$tool" train --model base.safetensors --data photos --memory-budget 10M --epochs 1 --out m.safetensors

# ---- check, preview, and how pictures are varied ----
rm photos/b/large.bmp
mkdir -p twice/a twice/b twice/c held/a held/b
noise() { # FILE SEED SIDE: a picture unlike the others
    { printf 'P6\n%d %d\n255\n' "$3" "$3"
      LC_ALL=C awk -v s="$2" -v n="$3" 'BEGIN { for (i = 0; i < n * n * 3; ++i) { s = (s * 1103 + 12345) % 65521; printf "%c", 33 + s % 94 } }'; } >"$1"
}
for n in 1 2 3 4; do noise twice/a/$n.ppm $n 24; noise twice/b/$n.ppm $((50 + n)) 24; noise held/a/$n.ppm $((90 + n)) 24; done
noise twice/c/only.ppm 70 24
noise twice/b/small.ppm 71 9
cp twice/a/2.ppm held/b/copied.ppm
cp twice/a/3.ppm twice/b/again.ppm
{ printf 'P6\n24 24\n254\n'; tail -c $((24 * 24 * 3)) twice/b/1.ppm; } >held/b/nearly.ppm
echo "no picture" >twice/a/broken.jpg
says "17 pictures, 1 broken files" "$tool" check --data twice --val held
for line in '  twice/a/2.ppm and held/b/copied.ppm$' '  twice/a/3.ppm and twice/b/again.ppm, with another label$' \
    '  twice/b/1.ppm and held/b/nearly.ppm$' '  twice/b/small.ppm is 9 x 9 pixels$' 'twice: class c has one picture'; do
    grep -q "$line" out.txt && ok || bad "check does not say \"$line\": $(cat out.txt)"
done
[ "$(grep -c ' and ' out.txt)" -eq 3 ] && ok || bad "check lists other pairs: $(cat out.txt)"
"$tool" check --data twice --val held --model base.safetensors --json >out.txt 2>err.txt && grep -q '"duplicates": \[\["twice/a/2.ppm", "held/b/copied.ppm"\]\|"duplicates": \[\["twice/a/3.ppm"' out.txt &&
    grep -q '"broken": 1, "tiny": \["twice/b/small.ppm"\].*"doubtful": \[.*\]}$' out.txt && ok || bad "check --json: $(cat out.txt err.txt)"
mkdir -p doubt/dark doubt/light
for n in 1 2 3 4 5 6 7 8 9 10; do
    ppm doubt/dark/$n.ppm $((2 * n))
    ppm doubt/light/$n.ppm $((80 + 2 * n))
done
ppm doubt/light/wrong.ppm 11
says "  light/wrong.ppm: 9 of 9 are dark" "$tool" check --data doubt --model base.safetensors
sed -n '/contradict/,$p' out.txt | sed -n 2p | grep -q wrong.ppm && [ "$(tail -1 out.txt)" = "  1" ] && ok ||
    bad "one label is wrong: $(cat out.txt)"
rm twice/a/broken.jpg
says "1 files of --val are also in --data, byte for byte" \
    "$tool" train --model base.safetensors --data twice --val held --epochs 1 --out m.safetensors
grep -q "1 files of --data are there twice" out.txt && grep -q "class c has one picture" out.txt && ok || bad "train: $(cat out.txt)"
says "sheet.png written: 8 pictures, each as it is and in 7 views" \
    "$tool" preview --model base.safetensors --data twice --augment trivial,hue=0.2,flip-vertical --augment erase=0.5 --out sheet.png
[ "$(head -c 24 sheet.png | od -An -tu1 | tr -s ' \n' ' ' | cut -d' ' -f2-5,18-25)" = "137 80 78 71 0 0 0 80 0 0 0 80" ] && ok ||
    bad "sheet.png: $(head -c 24 sheet.png | od -An -tu1)"
says "written" "$tool" preview --model base.safetensors --data twice --no-shift --out sheet.bmp
says "balanced_sampling: each of 3 classes is drawn 3 times" "$tool" train --model base.safetensors --data twice --epochs 1 --freeze "" \
    --augment rand,crop=0.5 --mixup 0.2 --cutmix 1 --balanced sampling --out m.safetensors
says "balanced: the weights of the 3 classes" "$tool" train --model base.safetensors --data twice --epochs 1 --balanced loss --out m.safetensors
fails 2 "--augment is a list of trivial" "$tool" train --model base.safetensors --data twice --augment trivial,hue --out m.safetensors
fails 2 "not wiggle=3" "$tool" preview --model base.safetensors --data twice --augment rand,wiggle=3 --out s.png
fails 1 "hue must be 0 to 0.5" "$tool" preview --model base.safetensors --data twice --augment hue=0.7 --out s.png
fails 2 "--no-shift has no effect here" "$tool" train --model base.safetensors --data twice --augment shift=0.2 --no-shift --out m.safetensors
fails 2 "--balanced must be sampling or loss, not yes" "$tool" train --model base.safetensors --data twice --balanced yes --out m.safetensors
fails 2 "must end in .png or .bmp" "$tool" preview --model base.safetensors --data twice --out s.jpg
fails 1 "cannot be written" "$tool" preview --model base.safetensors --data twice --out nowhere/s.png

# ---- A sweep: the best of its settings is known, and the command that it prints trains it again ----
demo=../../examples/demo
says "1. " "$tool" sweep --model $demo/base.safetensors --data $demo/train --per-class 4 --hold-back 0.25 --val $demo/train --lr 1e-9,3e-3 \
    --freeze ",conv*,bn*" --epochs 2 --plot plot.svg --report swept.html --out swept.safetensors
sed -n 's/^ *1\. .* best  *//p' out.txt >best.txt
grep -q '^lr 0.003, freeze "' best.txt && [ "$(grep -c ' lr 1e-09, freeze "' out.txt)" = 2 ] && grep -q ' of 100 right' out.txt && ok ||
    bad "sweep: $(cat out.txt)"
[ ! -e swept.safetensors.sweep ] && ! ls swept.safetensors.* >/dev/null 2>&1 && ok || bad "left by a sweep: $(ls swept*)"
[ "$(grep -c '<circle' plot.svg) $(grep -c '<circle' swept.html)" = "4 4" ] && grep -q 'Settings that were tried' swept.html &&
    [ "$(tail -n 1 swept.html)" = "</body></html>" ] && ok || bad "the plot and the report of a sweep"
mv swept.safetensors first.safetensors
command=$(grep '^finetune train ' out.txt)
eval "$(echo "$command --quiet" | sed 's,^finetune,"$tool",')" >/dev/null && cmp -s swept.safetensors first.safetensors && ok ||
    bad "another file from: $command"
sweep() { fails 2 "$1" "$tool" sweep --model $demo/base.safetensors --data $demo/train --out s.safetensors $2 "$3"; }
sweep "--lr must be numbers above 0, separated by commas, not 1e-3,x" --lr 1e-3,x
sweep "--budget must be a time such as 90s, 10m or 2h, not 10d" --budget 10d
sweep "--where has no effect here" --where "relu*"
sweep "--log-csv has no effect in sweep: it is for train" --log-csv l.csv
fails 2 "sweep needs --data and --out" "$tool" sweep --lr 1e-3
fails 2 "--seeds has no effect in train: it is for sweep" "$tool" train --seeds 3
fails 1 "--plot nowhere/p.svg: cannot be written" "$tool" sweep --model $demo/base.safetensors --data $demo/train --lr 1e-3,1e-2 --plot nowhere/p.svg --out s.safetensors
[ -e s.safetensors ] && bad "a sweep whose plot cannot be written ran" || ok
fails 1 "--lr-plot nowhere/l.svg: cannot be written" "$tool" train --model $demo/base.safetensors --data $demo/train --lr auto --lr-plot nowhere/l.svg --out s.safetensors
[ -e s.safetensors ] && bad "a run whose plot cannot be written trained" || ok
fails 1 "must be one of adamw, adam" "$tool" sweep --model $demo/base.safetensors --data $demo/train --optimizer adamw,best --out s.safetensors
echo "test_tool_pictures: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
