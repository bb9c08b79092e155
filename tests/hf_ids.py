"""Trains WordPiece and byte-level BPE with Hugging Face's tokenizers on the sentences of sst2, then
compares our ids with its own on every line of sst2 and rt-polarity. Called by test_huggingface.sh:

    hf_ids.py DATA FOLDER PROGRAM      PROGRAM --ids TOKENIZER < LINES prints the ids
"""
import json
import os
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

data, folder, program = sys.argv[1:4]


def lines_of(path):
    with open(path, "rb") as file:
        return [line.decode("utf-8", "replace") for line in file.read().split(b"\n") if line]


sst2 = {part: [line.split("\t")[0] for line in lines_of(f"{data}/text/sst2/{part}.tsv")]
        for part in ("train", "dev", "test")}
lines = sum(sst2.values(), [])
for kind in ("neg", "pos"):
    lines += lines_of(f"{data}/text/rt-polarity/rt-polarity.{kind}")
lines = [line.replace("\r", " ") for line in lines]

words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
words.normalizer = normalizers.BertNormalizer()
words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
words.train_from_iterator(sst2["train"], trainers.WordPieceTrainer(
    vocab_size=6000, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
with open(folder + "/vocab.txt", "w", encoding="utf-8") as out:
    for piece, _ in sorted(words.get_vocab().items(), key=lambda pair: pair[1]):
        out.write(piece + "\n")
words.save(folder + "/wordpiece.json")

pieces = Tokenizer(models.BPE())
pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
pieces.train_from_iterator(sst2["train"], trainers.BpeTrainer(
    vocab_size=6000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
pieces.model.save(folder)
pieces.save(folder + "/bpe.json")

known = [("vocab.txt", words), ("wordpiece.json", words), ("vocab.json", pieces), ("bpe.json", pieces)]

# The families of decoders, by the steps of the goldens and pieces of these sentences, and a
# pretrained tokenizer.
steps = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "tokenizers")
for name in ("llama3", "qwen2", "smollm", "roberta", "llama2", "llama2_older"):
    with open(f"{steps}/{name}.json", encoding="utf-8") as file:
        content = json.load(file)
    special = [token["content"] for token in content["added_tokens"]]
    special += ["<0x%02X>" % b for b in range(256)] if name == "llama2" else []
    content["added_tokens"], content["post_processor"] = [], None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    alphabet = [] if name.startswith("llama2") else pre_tokenizers.ByteLevel.alphabet()
    sample = sst2["train"] if alphabet else [word for line in sst2["train"] for word in line.split()]
    tokenizer.train_from_iterator(sample, trainers.BpeTrainer(
        vocab_size=6000, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    tokenizer.save(f"{folder}/{name}.json")
    known.append((f"{name}.json", tokenizer))
pretrained = f"{data}/weights/minilm_l3/tokenizer.json"
if os.path.exists(pretrained):
    known.append((pretrained, Tokenizer.from_file(pretrained)))

# Every code point with a compatibility decomposition, alone and beside others and marks.
codes = [chr(c) for c in range(0xA0, 0x110000) if not 0xD800 <= c < 0xE000
         and unicodedata.normalize("NFKD", chr(c)) != unicodedata.normalize("NFD", chr(c))]
made = [" ".join(codes[at:at + 40]) for at in range(0, len(codes), 40)]
draw = random.Random(17)
marks = [chr(c) for c in range(0x300, 0x1000) if unicodedata.combining(chr(c))]
draw.shuffle(codes)
made += ["".join(c + draw.choice(["", "", "a", draw.choice(marks)]) for c in codes[at:at + 40])
         for at in range(0, len(codes), 40)]
with open(f"{steps}/qwen2.json", encoding="utf-8") as file:
    qwen = file.read()
for form in ("NFKC", "NFKD"):
    with open(f"{folder}/{form}.json", "w", encoding="utf-8") as out:
        out.write(qwen.replace('"type":"NFC"', '"type":"%s"' % form))
    known.append((f"{form}.json", Tokenizer.from_file(f"{folder}/{form}.json")))
every = lines

passed = failed = 0
for name, tokenizer in known:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    lines = every + made if name.startswith("NFK") else every
    out = subprocess.run([program, "--ids", os.path.join(folder, name)], check=True, capture_output=True,
                         input=("\n".join(lines) + "\n").encode("utf-8", "replace"))
    got = out.stdout.decode().split("\n")[:-1]
    wrong = 0
    for line, ids in zip(lines, got):
        want = " ".join(map(str, tokenizer.encode(line, add_special_tokens=False).ids))
        if ids != want:
            wrong += 1
            if wrong < 4:
                print(f"{name}: {line!r}: {ids}, not {want}")
    print(f"{name}: {len(got)} lines, {wrong} differ")
    if wrong or len(got) != len(lines):
        failed += 1
    else:
        passed += 1
print(f"test_huggingface: {passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
