#!/bin/sh
# The command-line tool on text, and the examples that read text: on the small texts of examples/text.
passed=0 failed=0
export FINETUNE_CACHE=none
tool=build/finetune
texts=examples/text
work=build/tool_text
rm -rf $work
mkdir -p $work

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
says() { # says PATTERN COMMAND...: ends well, and its output holds the pattern
    pattern=$1; shift
    if "$@" >$work/out.txt 2>$work/err.txt && grep -q -- "$pattern" $work/out.txt; then ok
    else bad "$pattern: $*"; tail -n 3 $work/out.txt $work/err.txt; fi
}
fails() { # fails WORD COMMAND...
    word=$1; shift
    "$@" >$work/out.txt 2>$work/err.txt && bad "no error: $*" && return
    [ "$(grep -c '^finetune: ' $work/err.txt)" -ge 1 ] && grep -q -- "$word" $work/err.txt && ok ||
        bad "no \"$word\": $*: $(tail -1 $work/err.txt)"
}

# ---- Classification: a table, a report with the worst mistakes, one text, lines ----
says '"mistakes": \[' $tool train --data $texts/reviews.tsv --val $texts/reviews_test.tsv --epochs 4 \
    --hidden 32 --out $work/reviews.safetensors --json --seed 1
right=$(sed 's/.*"correct": \([0-9]*\).*/\1/' $work/out.txt)
[ "$right" -ge 285 ] && ok || bad "$right of 300 right"
says "^$right of 300 right" $tool eval --model $work/reviews.safetensors --data $texts/reviews_test.tsv
grep -q '^the worst mistakes:' $work/out.txt && ok || bad "no mistakes are shown"
says "^$right of 300 right" $tool eval --model $work/reviews.safetensors --data $texts/reviews_test.tsv --worst 0
grep -q '^the worst mistakes:' $work/out.txt && bad "--worst 0 shows mistakes" || ok
says 'good [0-9.]* %, bad' $tool predict --model $work/reviews.safetensors 'the bread was fresh'
says '"class": "bad"' $tool predict --model $work/reviews.safetensors --json --top 1 'the soup was sour'
printf 'the soup was sour\n\nthe bread was crisp' >$work/lines.txt
[ "$($tool predict --model $work/reviews.safetensors <$work/lines.txt | wc -l)" -eq 3 ] && ok || bad "lines"
printf 'a\377b\303\244\n' | $tool predict --model $work/reviews.safetensors --json >$work/out.txt
grep -q "$(printf '{"text": "a.ufffdb\303\244"')" $work/out.txt && ok || bad "JSON of what is no UTF-8"
says 'input       text, [0-9]* pieces: words$' $tool info --model $work/reviews.safetensors
grep -q 'output      2 classes: bad, good$' $work/out.txt && grep -q 'memory .* one text of 128 tokens' $work/out.txt &&
    ! grep -q missing $work/out.txt && ok || bad "info of texts"
# What the layers have, in their column, is what is told of all.
layers=$(awk '/^\(N/ { exit } NR > 1 { sum += substr($0, 66, 12) } END { print sum }' $work/out.txt)
grep -q "^  parameters  [0-9.]* k ($layers) in 11 tensors, .* none is frozen" $work/out.txt && ok || bad "info: $layers parameters in layers"
says '"architecture": .*"length": 128, "missing": \[\]}' $tool info --model $work/reviews.safetensors --json
fails '--times has no effect here: it is for pictures' $tool info --model $work/reviews.safetensors --times

# ---- A folder of text files is the same task ----
mkdir -p $work/folder/good $work/folder/bad
head -60 $texts/reviews.tsv | awk -F'\t' -v to=$work/folder '{ print $1 >(to "/" $2 "/" NR ".txt") }'
says 'written' $tool train --data $work/folder --epochs 1 --max-steps 1 --hidden 8 --out $work/folder.safetensors
grep -aq 'most_steps' $work/folder.safetensors && ok || bad "--max-steps"

grep -q "60 texts of 2 classes" $work/err.txt && ok || bad "what was read is not said"

# ---- A bag of words: by name, or instead of an LSTM if more of the held-back texts are right with it ----
says 'a bag of words: logistic regression on the TF-IDF of [0-9]* words$' $tool train --data $texts/reviews.tsv \
    --network bag_of_words --val $texts/reviews_test.tsv --out $work/bag.safetensors
right=$(sed -n 's/^\([0-9]*\) of 300 right.*/\1/p' $work/out.txt)
[ "$right" -ge 285 ] && ok || bad "$right of 300 right with a bag of words"
says "^$right of 300 right" $tool eval --model $work/bag.safetensors --data $texts/reviews_test.tsv
says '"class": "bad"' $tool predict --model $work/bag.safetensors --json --top 1 'the soup was sour'
says 'a bag of words: .*: [0-9]* of [0-9]* held-back texts are right, and [0-9]* with an LSTM' $tool train \
    --data $texts/reviews.tsv --hold-back 0.3 --max-steps 1 --hidden 8 --out $work/better.safetensors
says 'counts  *token_counts' $tool info --model $work/better.safetensors
# Which of two words comes first is the class, which an LSTM alone can learn.
awk 'BEGIN { for (i = 0; i < 200; ++i) print (i % 2 ? "salt pepper " : "pepper salt ") "x" i % 7 "\t" (i % 2 ? "a" : "b") }' >$work/order.tsv
says 'random weights.* held-back texts are right, and [0-9]* with a bag of words' $tool train --data $work/order.tsv \
    --hold-back 0.3 --hidden 16 --epochs 12 --out $work/order.safetensors
fails 'bag_of_words, not lstm' $tool train --data $texts/reviews.tsv --network lstm --out $work/bag.safetensors
fails 'have no effect with --network bag_of_words' $tool train --data $texts/reviews.tsv --network bag_of_words \
    --hidden 8 --out $work/bag.safetensors
fails '--network has no effect' $tool train --model $work/bag.safetensors --data $texts/reviews.tsv \
    --network bag_of_words --out $work/again.safetensors

# ---- A language model, what it writes, and a classifier on top of it ----
says 'perplexity' $tool train --data $texts/kitchen.txt --val $texts/kitchen.txt --epochs 6 --hidden 32 \
    --streams 8 --lr 0.01 --out $work/kitchen.safetensors --seed 1
$tool generate --model $work/kitchen.safetensors --prompt 'Then ' --length 80 --seed 3 >$work/a.txt
$tool generate --model $work/kitchen.safetensors --prompt 'Then ' --length 80 --seed 3 >$work/b.txt
$tool generate --model $work/kitchen.safetensors --prompt 'Then ' --length 80 --seed 4 >$work/c.txt
cmp -s $work/a.txt $work/b.txt && ok || bad "the same seed, another text"
cmp -s $work/a.txt $work/c.txt && bad "another seed, the same text" || ok
says 'output      scores of the next token for each of [0-9]*: a language model' $tool info $work/kitchen.safetensors
grep -q '^Then ' $work/a.txt && [ "$(wc -m <$work/a.txt)" -eq 86 ] && ok || bad "80 characters"
says '"tokens": 20, "text": "' $tool generate --model $work/kitchen.safetensors --length 20 --json --greedy
says 'perplexity' $tool train --data $texts/reviews.tsv --language-model --words --epochs 4 --hidden 32 \
    --layers 1 --streams 8 --lr 0.01 --val $texts/reviews_test.tsv --out $work/words.safetensors
grep -q "^$texts/reviews.tsv: [0-9]* texts; text from" $work/err.txt && ok || bad "what was read is not said"
says 'perplexity' $tool eval --model $work/words.safetensors --data $texts/reviews_test.tsv --task language-model
says 'unfrozen' $tool train --model $work/words.safetensors --data $texts/reviews.tsv --label-column 2 \
    --per-class 30 --val $texts/reviews_test.tsv --epochs 3 --out $work/tuned.safetensors

# ---- Vectors of texts: a folder's tokens pooled as --pooling says; --out is NumPy's format ----
bert=tests/golden/encoders/bert_bare
mkdir -p $work/bert
cp $bert/* $work/bert
{ printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n'; for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z; do echo $letter; done; } >$work/bert/vocab.txt
fails 'choose --pooling mean, cls or max' $tool embed --model $work/bert 'a b'
says '^-*[0-9.e-]*\( -*[0-9.e-]*\)\{15\}$' $tool embed --model $work/bert --pooling mean 'a b c'
cp $work/out.txt $work/one.txt
printf 'z\na b c\n' | $tool embed --model $work/bert --pooling mean >$work/out.txt 2>$work/err.txt
sed -n 2p $work/out.txt | cmp -s - $work/one.txt && [ "$(wc -l <$work/out.txt)" -eq 2 ] && ok || bad "a line of standard input has other numbers"
says '^{"text": "a b c", "vector": \[' $tool embed --model $work/bert --pooling mean --json 'a b c'
says '2 vectors of 16 features' $tool embed --model $work/bert --pooling mean --out $work/v.npy z 'a b c'
[ "$(wc -c <$work/v.npy)" -eq 256 ] && head -1 $work/v.npy | grep -aq "NUMPY.*'<f4', 'fortran_order': False, 'shape': (2, 16), }" && ok || bad "v.npy"
tail -c 64 $work/v.npy | od -An -v -tf4 -w64 | awk '{ getline one <"'$work/one.txt'"; split(one, x); for (i = 1; i <= 16; ++i) if ($i - x[i] > 1e-6 || x[i] - $i > 1e-6) exit 1 }' &&
    ok || bad "the numbers of v.npy"
mkdir -p $work/bert/1_Pooling
echo '{"pooling_mode": "mean"}' >$work/bert/1_Pooling/config.json
says . $tool embed --model $work/bert 'a b c' # as the folder says, and as the file that is made of it does
grep -q 'are new' $work/err.txt && bad "a head that embed does not read" || ok
cmp -s $work/out.txt $work/one.txt && ok || bad "the pooling of the folder"
$tool convert --model $work/bert --out $work/bert.safetensors >/dev/null 2>&1
says . $tool embed --model $work/bert.safetensors 'a b c'
cmp -s $work/out.txt $work/one.txt && ok || bad "the pooling of the file"
says . $tool embed --model $work/bert.safetensors --pooling max --normalize 'a b c'
awk '{ for (i = 1; i <= NF; ++i) sum += $i * $i; exit !(NF == 16 && sum > 0.999999 && sum < 1.000001) }' $work/out.txt && ok || bad "length 1"
fails '--pooling must be mean, cls or max' $tool embed --model $work/bert --pooling last x
fails 'must be the name of a .npy file' $tool embed --model $work/bert --out $work/v.txt x
fails '--top has no effect in embed' $tool embed --model $work/bert --top 3 x
says . $tool embed --model $work/reviews.safetensors --pooling mean 'the bread was fresh' # of a recurrent network too
# ---- Pairs: known columns, or --pairs; predict reads them with a tab between ----
awk -F'\t' 'NR > 1 && NR < 42 { print first "\t" $1 "\t" (kind == $2 ? "same" : "other") } { first = $1; kind = $2 }' \
    $texts/reviews.tsv >$work/pairs.tsv
{ printf 'text1\ttext2\tlabel\n'; cat $work/pairs.tsv; } >$work/pairs_named.tsv
says '"class": "same", "guess"\|"mistakes": \[\]\|"class": "other", "guess"' $tool train --data $work/pairs_named.tsv --epochs 1 --hidden 4 \
    --val $work/pairs_named.tsv --out $work/pairs.safetensors --json
grep -q 'pairs_named.tsv: classification: 40 pairs of 2 classes (other, same); pair from column 1' $work/err.txt && ok || bad "pairs"
says '^40 texts\|of 40 right' $tool eval --model $work/pairs.safetensors --data $work/pairs.tsv --text-column 1,2 --label-column 3 --pairs
printf 'the soup was sour\tthe tea was cold\nno pair\n' >$work/lines.txt
$tool predict --model $work/pairs.safetensors <$work/lines.txt >$work/out.txt 2>$work/err.txt && bad "a line that is no pair" || ok
[ "$(wc -l <$work/out.txt)" -eq 1 ] && grep -q 'same [0-9.]* %' $work/out.txt && grep -q 'FIRST, a tab, SECOND' $work/err.txt && ok || bad "predict of pairs"
grep -q "$(printf '^the soup was sour\tthe tea was cold: ')" $work/out.txt && ok || bad "the tab of a pair"
fails 'single texts, but the model reads pairs' $tool eval --model $work/pairs.safetensors --data $texts/reviews_test.tsv
fails 'a pair needs two text columns' $tool train --data $work/pairs_named.tsv --text-column 1 --pairs --out $work/x.safetensors

# ---- Prompts with completions, and messages: a language model ----
golden=tests/golden/tokenizers
printf '{"prompt":"boats","completion":" came in"}\n{"prompt":"letters","completion":" went"}\n' >$work/pairs.jsonl
printf '{"messages":[{"role":"user","content":"boats"},{"role":"assistant","content":"in"}]}\n' >$work/chat.jsonl
says '2 completions .*<|endoftext|> after it' sh -c "$tool train --data $work/pairs.jsonl --vocabulary \
    $golden/smollm.json --hidden 32 --epochs 150 --lr 0.02 --out $work/answers.safetensors 2>&1"
says "^boats came in$" $tool generate --model $work/answers.safetensors --prompt boats --greedy
says '"tokens"' $tool generate --model $work/answers.safetensors --prompt boats --greedy --chat chatml --length 3 --json
fails '<|begin_of_text|>' $tool generate --model $work/answers.safetensors --prompt boats --chat llama3
says 'ChatML.*<|im_start|>' sh -c "$tool eval --model $work/answers.safetensors --data $work/chat.jsonl 2>&1"
fails '<|begin_of_text|>' $tool eval --model $work/answers.safetensors --data $work/chat.jsonl --chat llama3
fails 'causal attention' $tool train --data $work/pairs.jsonl --vocabulary $golden/smollm.json --pack --out $work/x.safetensors
fails '--chat must be chatml' $tool eval --model $work/answers.safetensors --data $work/chat.jsonl --chat jinja
fails '--chat has no effect here' $tool train --data $texts/kitchen.txt --chat chatml --out $work/x.safetensors
fails '--streams has no effect here' $tool eval --model $work/answers.safetensors --data $work/pairs.jsonl --streams 2

# ---- Entities: a class for each word ----
awk 'BEGIN { srand(3); split("ada bo mary john", p); split("paris rome oslo", q); split("he lives in is now came ( ) , !", o)
    for (n = 0; n < 240; ++n) {
        for (i = 0; i < 6; ++i) { r = rand()
            if (r < 0.2) print p[1 + int(4 * rand())] "\tB-person\n" p[1 + int(4 * rand())] "\tI-person"
            else if (r < 0.4) print q[1 + int(3 * rand())] "\tB-place"
            print o[1 + int(10 * rand())] "\tO" }
        print n % 3 ? "" : "\t" } }' >$work/names.conll
says '"entities": {"correct": ' $tool train --data $work/names.conll --val $work/names.conll --hidden 32 --epochs 8 --lr 0.01 \
    --seed 1 --threads 1 --out $work/names.safetensors --json
f1=$(sed 's/.*"f1": \([0-9.]*\).*/\1/' $work/out.txt)
awk "BEGIN { exit !($f1 > 0.98) }" && ok || bad "F1 $f1"
grep -q 'tokens: 240 sentences of [0-9]* words, entities of 2 types (person, place)' $work/err.txt && ok || bad "what was read"
says '^entities: F1 9[89]\|^entities: F1 100' $tool eval --model $work/names.safetensors --data $work/names.conll
grep -q 'words right: ' $work/out.txt && ok || bad "words"
says '^(mary bo, is in oslo!): person "mary bo" [0-9.]* %, place "oslo" [0-9.]* %$' $tool predict --model $work/names.safetensors '(mary bo, is in oslo!)'
says '^he is: none$' $tool predict --model $work/names.safetensors 'he is'
printf '\303\234 rome\nada\n' | $tool predict --model $work/names.safetensors --json >$work/out.txt 2>$work/err.txt
grep -q '"entities": \[{"type": "place", "text": "rome", "start": 2, "end": 6, "probability": ' $work/out.txt &&
    [ "$(wc -l <$work/out.txt)" -eq 2 ] && ok || bad "JSON of entities"
says 'output      5 classes: B-person, B-place, I-person, I-place, O$' $tool info --model $work/names.safetensors
fails '--top has no effect here' $tool predict --model $work/names.safetensors --top 2 ada
fails '--worst has no effect here' $tool eval --model $work/names.safetensors --data $work/names.conll --worst 2
fails '--text-column has no effect here' $tool eval --model $work/names.safetensors --data $work/names.conll --text-column 1
fails 'is not one of the 5 classes of the model' $tool eval --model $work/names.safetensors --data $texts/reviews_test.tsv
printf 'ada\tB-person\nis\n' >$work/wrong.conll
fails 'wrong.conll: line 2 has 1 column' $tool train --data $work/wrong.conll --out $work/x.safetensors

# ---- Regression: labels are numbers with fractions ----
awk 'BEGIN { print "text\tscore"; for (i = 0; i < 80; ++i) { n = i % 8 + 1; for (k = 0; k < n; ++k) printf "word "; print "\t" 100 + n / 8 } }' >$work/scores.tsv
says '^Pearson 0.9[0-9]*, Spearman [01].[09][0-9]*, R2 0.[89][0-9]*, mean squared error' $tool train --data $work/scores.tsv --val $work/scores.tsv \
    --epochs 25 --hidden 16 --lr 0.01 --out $work/scores.safetensors
grep -q 'scores.tsv: regression: 80 texts with numbers from 100.125 to 101; text from column 1' $work/err.txt &&
    ! grep -q 'right' $work/err.txt && ok || bad "what is said of numbers"
says '^{"total": 80, "skipped": 0, "pearson": 0.9[0-9]*, "spearman": [01].[09][0-9]*, "r2": ' $tool eval --model $work/scores.safetensors --data $work/scores.tsv --json
says '^word word: 100\.[0-9]*$' $tool predict --model $work/scores.safetensors 'word word'
says '^{"text": "word word", "number": 100\.[0-9]*}$' $tool predict --model $work/scores.safetensors --json 'word word'
says 'output      a number: a regression' $tool info --model $work/scores.safetensors
fails 'the label "good" is not a number' $tool train --data $texts/reviews.tsv --task regression --out $work/x.safetensors
fails 'the label "good" is not a number' $tool eval --model $work/scores.safetensors --data $texts/reviews.tsv

# ---- Decoders: folders of Hugging Face's ----
decoders=tests/golden/decoders
printf '["A","B","C","D","E","F","G","H","I","J","K","L","M","N","O","P","Q","R","S","T","U","V","W","X","Y","Z","a","b","c","d"]' \
    >$work/letters.vocab.json
letters="--vocabulary $work/letters.vocab.json"
$tool generate --model $decoders/llama $letters --greedy --length 12 ABC >$work/one.txt
$tool generate --model $decoders/llama $letters --greedy --length 12 --prompt Qa >>$work/one.txt
$tool generate --model $decoders/llama $letters --greedy --length 12 ABC Qa >$work/both.txt
cmp -s $work/one.txt $work/both.txt && [ "$(wc -c <$work/both.txt)" -eq 31 ] && ok || bad "two prompts at once"
says '^{"prompt": "Qa", "tokens": 12, "text": "[A-Za-d]\{12\}"}$' \
    $tool generate --model $decoders/llama $letters --greedy --length 12 ABC Qa --json
last=$(tail -1 $work/both.txt)
rest=${last#Qa}
says "^Qa\$" $tool generate --model $decoders/llama $letters --greedy --length 12 --until "${rest%?????}" ABC Qa
fails 'only one of both' $tool generate --model $decoders/llama $letters --prompt A B
awk 'BEGIN { for (i = 0; i < 300; ++i) printf "%c", 65 + i % 7 }' >$work/week.txt
says 'written' $tool train --model $decoders/qwen2 $letters --data $work/week.txt --streams 2 --steps 12 --epochs 8 --lr 0.01 \
    --out $work/week.safetensors --seed 1 --threads 1
grep -q 'all layers at once, with a learning rate that rises, then falls to 0; 8 epochs, learning rate 0.01$' $work/out.txt &&
    ok || bad "the recipe"
says '^ABCDEFGABCDEFGA$' $tool generate --model $work/week.safetensors --greedy --length 12 ABC
says 'next token right 100' $tool eval --model $work/week.safetensors --data $work/week.txt --streams 2 --steps 12
says '^the adapters, with a learning rate' $tool train --model $decoders/llama $letters --lora 2 --data $work/week.txt --streams 2 \
    --steps 12 --epochs 1 --save-adapter $work/week_adapter --out $work/x.safetensors --seed 1 --threads 1
grep -q '"modules_to_save": null' $work/week_adapter/adapter_config.json && ok || bad "the adapter"
rm -f $work/x.safetensors
awk 'BEGIN { for (i = 0; i < 60; ++i) { for (k = 0; k < 3 + i % 5; ++k) printf "%c", 65 + (i * 7 + k * k * 3) % 13
    printf "%s\t%s\n", i % 2 ? "Z" : "Y", i % 2 ? "last" : "first" } }' >$work/ends.tsv
says 'written' $tool train --model $decoders/gpt2 $letters --data $work/ends.tsv --label-column 2 --epochs 12 --lr 0.01 \
    --out $work/ends.safetensors --seed 1 --threads 1
says 'ABCZ: last 9' $tool predict --model $work/ends.safetensors ABCZ
says 'output      2 classes: first, last$' $tool info --model $work/ends.safetensors
says 'of 16 tokens' $tool info --model $work/ends.safetensors

# ---- The head only ----
says '^as requested: the head only; 2 epochs, learning rate 0.001$' $tool train --model $work/bert --data $texts/reviews.tsv --head-only \
    --epochs 2 --out $work/x.safetensors
grep -q '; [0-9]* frozen tensors' $work/out.txt && grep -q 'are new' $work/err.txt && ok || bad "frozen, and a new head"
rm -f $work/x.safetensors

# ---- Vectors learnt from pairs, and measured by numbers ----
awk 'BEGIN { print "first\tsecond\tscore"; for (n = 0; n < 40; ++n) { a = b = ""
    for (k = 0; k < 4; ++k) { c = (n * 3 + k * 5) % 26; a = a sprintf("%c ", 97 + c); b = b sprintf("%c ", 97 + (k < n % 5 ? c : (c + 9) % 26)) }
    print a "\t" b "\t" n % 5 } }' >$work/pairs.tsv
columns="--text-column first,second --label-column score"
says '^cosines of 40 pairs and their numbers: Spearman 0.[0-9]*, Pearson 0.[0-9]*$' \
    $tool eval --task embeddings --model $work/bert --data $work/pairs.tsv $columns
before=$(sed 's/.*Spearman \(0.[0-9]*\),.*/\1/' $work/out.txt)
says '^all layers at once, so that the vectors' $tool train --task embeddings --model $work/bert --data $work/pairs.tsv \
    --val $work/pairs.tsv $columns --min-score 3 --epochs 20 --lr 0.001 --out $work/vectors.safetensors
grep -q 'embeddings: 16 of 40 pairs, whose number is at least 3' $work/err.txt && ! grep -q 'right\|are new' $work/err.txt && ok || bad "what was read"
after=$(sed -n 's/.*Spearman \(0.[0-9]*\),.*/\1/p' $work/out.txt)
awk "BEGIN { exit !($after > $before + 0.05) }" && ok || bad "Spearman $before, then $after"
says '"spearman": ' $tool eval --task embeddings --model $work/vectors.safetensors --data $work/pairs.tsv $columns --json
sed 's/.*"spearman": \([0-9.]*\),.*/\1/' $work/out.txt | awk '{ exit !($1 - '$after' < 6e-5 && '$after' - $1 < 6e-5) }' && ! grep -q classes $work/err.txt &&
    ok || bad "the file's Spearman"
says . $tool embed --model $work/vectors.safetensors 'a b c'
says 'of 60 right' $tool train --model $work/vectors.safetensors --data $work/folder --val $work/folder --epochs 1 --out $work/headed.safetensors
says 'follow their numbers' $tool train --task embeddings --model $work/bert --data $work/pairs.tsv $columns --epochs 1 --out $work/x.safetensors
rm -f $work/x.safetensors
fails 'name the columns of both texts' $tool train --task embeddings --model $work/bert --data $work/pairs.tsv --text-column first --out $work/x.safetensors
fails '--pooling has no effect here' $tool train --model $work/bert --pooling max --data $texts/reviews.tsv --out $work/x.safetensors

# ---- Errors are one line ----
fails 'no column' $tool train --data $texts/reviews.tsv --text-column body --out $work/x.safetensors
fails 'language model' $tool generate --model $work/reviews.safetensors
# Before the first step: what is wrong with the texts of --val.
printf 'text\tlabel\nthe soup was sour\tsour\n' >$work/wrong.tsv
for wrong in wrong.tsv nothing.tsv lines.txt; do
    fails "$wrong" $tool train --data $texts/reviews.tsv --val $work/$wrong --epochs 1 --hidden 8 --out $work/x.safetensors
    grep -q 'loss' $work/err.txt && bad "$wrong: it was noticed after the training" || ok
done
fails "wrong.tsv: the class 'sour' is not one of the 2 classes of the training data (the first is 'bad')" \
    $tool train --data $texts/reviews.tsv --val $work/wrong.tsv --hidden 8 --out $work/x.safetensors
fails "wrong.tsv: the class 'sour' is not one of the 2 classes of the model" $tool eval --model $work/reviews.safetensors --data $work/wrong.tsv
[ -e $work/x.safetensors ] && bad "something was written" || ok
# Options that have no effect here.
fails '--language-model has no effect here: .* but this network classifies texts' $tool eval --model $work/reviews.safetensors --data $texts/reviews.tsv --language-model
fails '--task language-model: this network classifies texts' $tool eval --model $work/reviews.safetensors --data $texts/reviews.tsv --task language-model
fails '--task must be classification, regression, .*, not spelling' $tool train --data $texts/reviews.tsv --task spelling --out $work/x.safetensors
fails '--task embeddings needs --model' $tool train --data $texts/reviews.tsv --task embeddings --out $work/x.safetensors
fails 'line 1: the tag is ' $tool train --data $texts/reviews.tsv --task tokens --out $work/x.safetensors
fails '--flip has no effect here: it is for pictures' $tool train --data $texts/reviews.tsv --flip --out $work/x.safetensors
fails '--streams has no effect here: it is for a language model' $tool train --data $texts/reviews.tsv --streams 8 --out $work/x.safetensors
fails '--per-class has no effect here: .*for a language model use --streams' $tool train --data $texts/kitchen.txt --per-class 8 --out $work/x.safetensors
fails '--batch-size has no effect here' $tool eval --model $work/kitchen.safetensors --data $texts/kitchen.txt --batch-size 8
fails '--text-column has no effect here: it is for a table' $tool train --data $work/folder --text-column 1 --out $work/x.safetensors
fails '--min-count has no effect here: it is for a vocabulary made from these texts' $tool train --model $work/words.safetensors \
    --data $texts/reviews.tsv --label-column 2 --min-count 2 --out $work/x.safetensors
fails 'cannot be opened' $tool eval --model $work/reviews.safetensors --data $work/nothing.tsv

# ---- The examples ----
# With the library that make has compiled already, in a second instead of 20: then the header leaves out
# its own. test_builds reads them with it.
for example in text_classifier char_rnn lora transformer; do
    ${CC:-cc} -std=c99 -O1 -DFINETUNE__IMPLEMENTED -I. examples/$example.c build/finetune.o -o $work/$example -lm -pthread ||
        bad "$example.c"
done
says 'after the language model, 24 labels' $work/text_classifier
says 'merged: .*: the same bits' $work/lora
says 'nats a letter' $work/transformer $texts/kitchen.txt 1
says 'after the same number of steps' $work/char_rnn

echo "test_tool_text: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
