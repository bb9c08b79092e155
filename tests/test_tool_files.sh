#!/bin/sh
# The tool with files as people have them: checkpoints that hold several sets of weights, targets that
# may not be replaced, a full disk, two processes that write one file.
passed=0 failed=0 skipped=0
tool=$PWD/build/finetune
formats=$PWD/tests/golden/formats
work=$PWD/build/tool_files
export FINETUNE_CACHE=none
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }

# fails WORD COMMAND...: status 1, and WORD in the one line on stderr
fails() {
    word=$1; shift
    "$@" >out.txt 2>err.txt
    status=$?
    if [ $status -eq 1 ] && grep -q -- "$word" err.txt && [ "$(grep -c '^finetune: ' err.txt)" -eq 1 ]; then ok
    else bad "status $status, wanted 1 with \"$word\": $*"; head -3 err.txt; fi
}

fails "generator (2 tensors), discriminator (2 tensors).*--state-dict" "$tool" info --model "$formats/ckpt_two.pt"
fails "no weights under \"ema\"" "$tool" info --model "$formats/ckpt_two.pt" --state-dict ema
fails "state_dict has no effect" "$tool" info --model "$formats/ckpt_tied.safetensors" --state-dict model
fails "TorchScript" "$tool" info --model "$formats/ckpt_script.pt"
for model in ckpt_tied.pt ckpt_tied.safetensors; do
    "$tool" info --model "$formats/$model" >out.txt 2>err.txt && grep -q "^lstm_lm" out.txt && ok || bad "$model: $(cat err.txt)"
done

base=$formats/ckpt_tied.safetensors
# --dtype: what info says of the types, and what is refused
"$tool" convert --model "$base" --type bf16 --out half.safetensors >out.txt 2>err.txt || bad "convert: $(cat err.txt)"
"$tool" info --model half.safetensors --dtype auto >out.txt 2>err.txt && grep -q "^  types .*BF16" out.txt && ok ||
    bad "info --dtype auto: $(cat out.txt err.txt)"
"$tool" info --model half.safetensors >out.txt 2>err.txt && ! grep -q "^  types" out.txt && ok || bad "info without --dtype"
"$tool" info --model half.safetensors --dtype int8 --json >out.txt 2>err.txt &&
    "$tool" info --model half.safetensors --json >whole.txt 2>err.txt && ok || bad "info --dtype int8: $(cat err.txt)"
bytes() { sed 's/.*"parameter_bytes": \([0-9]*\).*/\1/' "$1"; }
[ $(($(bytes out.txt) * 3 / 2)) -lt "$(bytes whole.txt)" ] && ok || bad "int8 takes $(bytes out.txt) of $(bytes whole.txt) bytes"
"$tool" info --model half.safetensors --dtype f64 >out.txt 2>err.txt
[ $? -eq 2 ] && grep -q "dtype must be f32, f16, bf16, int8 or auto" err.txt && ok || bad "--dtype f64: $(cat err.txt)"
mkfifo pipe.safetensors
fails "pipe.safetensors: cannot be opened\|pipe.safetensors: not a" "$tool" info --model pipe.safetensors
fails "pipe.safetensors: .*a pipe, a device" "$tool" convert --model "$base" --out pipe.safetensors
[ -p pipe.safetensors ] && ok || bad "the pipe was replaced"
full() { (trap '' XFSZ; ulimit -f 1; "$tool" convert --model "$base" --out full.safetensors); }
fails "full.safetensors: writing failed: is the disk full" full
[ -z "$(ls | grep '^full')" ] && ok || bad "half a file on a full disk"
for type in f32 f16; do "$tool" convert --model "$base" --type $type --out $type.safetensors --quiet || bad "$type"; done
for round in 1 2 3 4 5; do
    "$tool" convert --model "$base" --type f32 --out both.safetensors --quiet & first=$!
    "$tool" convert --model "$base" --type f16 --out both.safetensors --quiet && wait $first && ok || bad "a writer failed"
    cmp -s both.safetensors f32.safetensors || cmp -s both.safetensors f16.safetensors && ok || bad "round $round: mixed"
done
[ -z "$(ls | grep partial)" ] && ok || bad "something is left: $(ls)"

# ---- NumPy's files, and files of no known network: listed, and copied as they are ----
"$tool" convert --model "$base" --out model.npz >out.txt 2>err.txt && "$tool" info model.npz >out.txt 2>err.txt &&
    grep -q "^lstm_lm" out.txt && ok || bad "a model in .npz: $(cat out.txt err.txt)"
"$tool" convert --model model.npz --out back.safetensors --quiet && "$tool" convert --model "$base" --out there.safetensors --quiet &&
    cmp -s back.safetensors there.safetensors && ok || bad "there and back by .npz"
for type in f32 f16 bf16; do
    "$tool" convert --model "$base" --out model.onnx --type $type --quiet && "$tool" convert --model model.onnx --out back.safetensors --type f32 --quiet &&
        "$tool" convert --model "$base" --out first.safetensors --type $type --quiet &&
        "$tool" convert --model first.safetensors --out there.safetensors --type f32 --quiet && cmp -s back.safetensors there.safetensors && ok ||
        bad "there and back by .onnx, $type"
done
"$tool" info model.onnx >out.txt 2>err.txt && grep -q "^lstm_lm" out.txt && ok || bad "info of an ONNX file: $(cat out.txt err.txt)"
"$tool" convert --model "$base" --out model.onnx --with-probabilities --quiet 2>err.txt && [ ! -s err.txt ] && ok || bad "--with-probabilities: $(cat err.txt)"
fails "with_preprocessing: the network must have an input" "$tool" convert --model "$base" --out x.onnx --with-preprocessing
[ -e x.onnx ] && bad "x.onnx was written" || ok
"$tool" convert --model "$base" --out x.npz --with-preprocessing >out.txt 2>err.txt
[ $? -eq 2 ] && grep -q "need an --out that ends in .onnx" err.txt && ok || bad "--with-preprocessing: $(cat err.txt)"
fails "an ONNX file holds a network, not" "$tool" convert --tensors --model "$base" --out x.onnx
"$tool" info "$formats/np_types.npz" >out.txt 2>err.txt && grep -q "^layer/0.weight  *F32  *3$" out.txt &&
    grep -q "^i64_big  *I64  *2$" out.txt && grep -q "^20 tensors" out.txt &&
    grep -q "np_types.npz: not the weights of a known network.*its tensors are taken as they are" err.txt && ok ||
    bad "info of arrays: $(cat out.txt err.txt)"
"$tool" info --tensors --json "$formats/a.npy" >out.txt 2>err.txt && [ ! -s err.txt ] && ok || bad "info --tensors: $(cat err.txt)"
printf '{"tensors": [{"name": "a", "type": "F32", "shape": [2, 3]}], "numbers": 6, "bytes": 24}\n' | cmp -s - out.txt && ok ||
    bad "info --tensors --json: $(cat out.txt)"
"$tool" convert --model "$formats/np_deflated.npz" --out deflated.safetensors >out.txt 2>err.txt &&
    "$tool" convert --tensors --model deflated.safetensors --out deflated.npz >out.txt 2>err.txt &&
    grep -q "deflated.npz written: 21 tensors" out.txt && ok || bad "arrays there and back: $(cat out.txt err.txt)"
"$tool" info --tensors "$formats/np_deflated.npz" >out.txt && "$tool" info --tensors deflated.npz >whole.txt && cmp -s out.txt whole.txt &&
    ok || bad "they differ: $(diff out.txt whole.txt)"
"$tool" convert --model "$formats/a.npy" --out b.npy >out.txt 2>err.txt && grep -q "no place for the name a" err.txt &&
    cmp -s b.npy "$formats/a.npy" && ok || bad "NumPy's own bytes of a.npy: $(cat out.txt err.txt)"
fails "np_others.npz has the type Python objects" "$tool" convert --model "$formats/np_others.npz" --out x.npz
fails "holds one array, and there are 20 tensors" "$tool" convert --model "$formats/np_types.npz" --out x.npy
fails "NumPy has no type BF16" "$tool" convert --tensors --model half.safetensors --out x.npz
"$tool" convert --tensors --model half.safetensors --type f32 --out x.npz --quiet && ok || bad "bf16 as float32"
"$tool" convert --tensors --model "$base" --out x.npz --labels l >out.txt 2>err.txt
[ $? -eq 2 ] && grep -q "tensors has no effect" err.txt && ok || bad "--tensors --labels: $(cat err.txt)"

# ---- Samples in arrays ----
cp ../../tests/fuzz/corpus/graph/by_hand_cnn cnn.json
"$tool" train --model cnn.json --allow-missing --data "$formats/data.npz" --val "$formats/data.npz" --epochs 1 --out cnn.npz >out.txt 2>err.txt &&
    grep -q "data.npz: x: 5 pictures of 7 x 6 pixels and 3 channels" err.txt && grep -q "data.npz: x_test: 2 pictures" err.txt &&
    grep -q "of 2 right" out.txt && ok || bad "train on arrays: $(cat out.txt err.txt)"
"$tool" eval --model cnn.npz --data "$formats/data.npz" --arrays grey,y >out.txt 2>err.txt && grep -q "of 5 right" out.txt && ok ||
    bad "eval of arrays: $(cat out.txt err.txt)"
fails "may be \[N, C, H, W\] or \[N, H, W, C\].*--layout" "$tool" eval --model cnn.npz --data "$formats/data.npz" --arrays small,small_y
"$tool" eval --model cnn.npz --data "$formats/data.npz" --arrays small,small_y --layout nhwc >out.txt 2>err.txt && ok || bad "--layout: $(cat err.txt)"
fails "of 5 images only 2 can be held back" "$tool" sweep --model cnn.npz --data "$formats/data.npz" --val "$formats/data.npz" \
    --arrays x,y --hold-back 0.4 --out swept.npz
"$tool" eval --model cnn.npz --data nowhere --arrays x >out.txt 2>err.txt
[ $? -eq 2 ] && grep -q "arrays has no effect here: it is for arrays (.npz, .npy)" err.txt && ok || bad "--arrays: $(cat err.txt)"
if ls /usr/lib/*/libhdf5_serial.so* >/dev/null 2>&1; then # a file of Keras is opened, and is no classifier
    fails "the teacher must give \[N, classes\]" "$tool" train --model cnn.npz --data "$formats/data.npz" --freeze "" --epochs 1 \
        --teacher "$formats/../keras/pixels.keras" --out taught.safetensors
    keras=$formats/../keras/pixels.keras # through each form, and back with the same bytes
    "$tool" convert --model "$keras" --out whole.h5 --quiet 2>err.txt && "$tool" convert --model whole.h5 --out kept.safetensors --quiet 2>>err.txt &&
        "$tool" convert --model kept.safetensors --out alone.weights.h5 --quiet 2>>err.txt &&
        "$tool" convert --model alone.weights.h5 --out copy.keras --quiet 2>>err.txt &&
        "$tool" convert --model copy.keras --out again.h5 --quiet 2>>err.txt && cmp -s whole.h5 again.h5 && ok || bad "Keras' forms: $(cat err.txt)"
    "$tool" convert --model kept.safetensors --out alone.weights.h5 >out.txt 2>err.txt && ! grep -q "no place" err.txt && ok ||
        bad "constants of Keras' network are said to be lost: $(cat err.txt)"
fi

# ---- Networks described in JSON: printed, read beside a file of weights, edited, wrong ----
"$tool" info --model "$base" --graph >net.json 2>err.txt && grep -q '^{"op":"lstm","name":"' net.json && ok || bad "info --graph: $(cat err.txt)"
"$tool" convert --model "$base" --out plain.safetensors --quiet || bad "convert"
"$tool" convert --model "$base" --arch net.json --out described.safetensors --quiet 2>err.txt || bad "convert --arch: $(cat err.txt)"
cmp -s plain.safetensors described.safetensors && ok || bad "--arch net.json gives another file"
"$tool" info --model described.safetensors --graph | cmp -s - net.json && ok || bad "another description"
fails "net.json: the weight .* is missing" "$tool" info --model net.json
"$tool" info --model net.json --allow-missing >out.txt 2>err.txt && grep -q "^lstm_lm" out.txt && ok || bad "drawn weights: $(cat err.txt)"
sed 's/"hidden"/"hiden"/' net.json >wrong.json
fails 'wrong.json: the network.s description: .*: unknown field "hiden"; it must be one of' "$tool" info --model "$base" --arch wrong.json
fails "absent.json" "$tool" info --model "$base" --arch absent.json
fails "resnet19: unknown network" "$tool" info --model "$base" --arch resnet19
"$tool" info --model "$base" --graph --times >out.txt 2>err.txt
[ $? -eq 2 ] && grep -q "must not both be given" err.txt && ok || bad "--graph --times: $(cat err.txt)"

# ---- --json: one object on standard output, of an error too ----
is_error() { # WORD COMMAND...: fails, and prints nothing but {..."error": "...WORD..."}
    word=$1; shift
    "$@" >out.txt 2>err.txt && bad "succeeds: $*" && return
    [ "$(wc -l <out.txt)" -eq 1 ] && grep -q "^{.*\"error\": \".*$word.*\"}$" out.txt && grep -q "$word" err.txt && ok || bad "$*: $(cat out.txt err.txt)"
}
is_error "gone: cannot be opened" "$tool" eval --json --model gone --data .
is_error "gone: cannot be opened" "$tool" info --json --model gone
is_error "unknown option: --typo" "$tool" train --json --typo
is_error "unknown verb: tran" "$tool" tran --json
is_error "eval needs --model and --data" "$tool" eval --json
is_error "name it .safetensors" "$tool" convert --json --model "$base" --out model.pth
printf '{\\n' >'a"b'
"$tool" info --json --model 'a"b' >out.txt 2>err.txt
[ "$(cut -c 1-16 out.txt)" = '{"error": "a\"b:' ] && ok || bad "an error with a quotation mark: $(cat out.txt)"
"$tool" info --model gone >out.txt 2>err.txt; [ ! -s out.txt ] && ok || bad "an error without --json on standard output"

echo "test_tool_files: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
