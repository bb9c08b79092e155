"""Makes tests/golden/tokenizers/*: small vocabularies trained with Hugging Face's tokenizers on the
sentences below, and the ids that it gives for them and for hard texts.

    python3 tests/golden/make_tokenizers.py        (needs tokenizers from PyPI)
"""
import json
import os
import random
import unicodedata

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
SENTENCES = [
    "The lighthouse keeper's daughter didn't believe in ghosts, but she'd seen one.",
    "We'll walk along the harbour until the lamps are lit; they're lit at seven.",
    "A letter, a ladder, and a lantern: that's all I've got (and it isn't much)!",
    "Rain fell on the roofs, on the boats, on the 1,204 barrels of salted fish.",
    "In 1987 the keeper earned $3.50 a day -- less than the baker's boy.",
    "Caf\u00e9 na\u00efve fa\u00e7ade \u00dcber stra\u00dfe \u0130stanbul \u0141\u00f3d\u017a \u00c5ngstr\u00f6m.",
    "\u0412\u0435\u0442\u0435\u0440 \u0438 \u0434\u043e\u0436\u0434\u044c, \u0419\u043e\u0434 \u0438 \u0401\u043b\u043a\u0430.",
    "\u706f\u53f0\u306e\u660e\u304b\u308a\u304c\u6d77\u3092\u7167\u3089\u3059\u3002 \ud55c\uad6d\uc5b4 \ub4f1\ub300",
    "\u1f08\u03b8\u1fc6\u03bd\u03b1\u03b9 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u03a3",
    "The boats went out. The boats came in. The keeper counted the boats.",
    "Nobody wrote the letters; nobody read the letters; the letters went on.",
]
HARD = [
    "", " ", "   ", "\t\n", "a", "  two  spaces  and   three", "ends with spaces   ",
    "tab\tand\nnewline\r\nand\u00a0no-break\u3000wide", "don't DON'T 'sound 'll''ve'", "x" * 99, "y" * 101,
    "[CLS] is no [SEP] here <|endoftext|>", "123abc456 7\u00bd\u00b2\u2163", "\u00e9 e\u0301 \u1ec7 e\u0323\u0302",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f!", "a\u0000b\u0007c\ufffdd\u200ee\u00adf",
    "\u2018quotes\u2019 \u201cdouble\u201d \u2013 \u2014 \u2026 \u00ab\u00bb \u00bf\u00a1", "$+<=>^`|~ \u20ac\u00a3\u00a5 \u00ac\u00b1",
    "\u0130\u0131I\u0307 \u01c5 \u01f2", "\u0915\u093c\u0916\u094d \u0e20\u0e32\u0e29\u0e32 \u05e9\u05c1\u05dc\u05d5\u05dd \u0645\u064e\u0631\u062d\u064e\u0628\u0627",
    "\U00020000\U0002f800 \uac01\u1100\u1161\u11a8", "\u0085\u2028\u2029\u180e\u200b\ufeff", "the the\u0301 the\u0300boats",
]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def byte_bpe(space_first):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space_first)
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def without_special(tokenizer):
    """The ids of plain text: to us "[SEP]" in a text is five characters, not a special piece."""
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(content))


def cases(name, tokenizer):
    plain = without_special(tokenizer)
    for text in SENTENCES + HARD:
        ids = plain.encode(text, add_special_tokens=False).ids
        yield {"tokenizer": name, "text": text.replace("\0", "\1"), "nul": "\0" in text, "ids": ids,
               "decoded": plain.decode(ids, skip_special_tokens=False).replace("\0", "\1")}


def letters():
    """Facts of single code points: class, the letter without accents, the small letter."""
    names = {"L": 1, "N": 2, "P": 3}
    draw = random.Random(5)
    codes = [c for c in range(0x80, 0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")
             and not 0xF900 <= c <= 0xFAFF and not 0x2F800 <= c <= 0x2FA1F]
    few = [c for c in codes if not 0x3400 <= c <= 0xD7FF and c < 0x17000]
    for code in sorted(draw.sample(few, 700) + draw.sample(codes, 60)):
        text, category = chr(code), unicodedata.category(chr(code))
        kind = 5 if category in ("Cc", "Cf", "Co") else 4 if category == "Mn" else names.get(category[0], 0)
        base = [ord(c) for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn"]
        small = [ord(c) for c in text.lower()]
        if len(small) == 1 and (len(base) < 2 or 0xAC00 <= code < 0xD7A4):
            yield [code, kind, small[0]] + base


def main():
    os.makedirs(OUT, exist_ok=True)
    words, pieces, spaced = wordpiece(), byte_bpe(False), byte_bpe(True)
    words.save(OUT + "/wordpiece.json")
    spaced.save(OUT + "/bpe_space_first.json")
    pieces.model.save(OUT, "bpe")
    vocabulary = sorted(words.get_vocab().items(), key=lambda pair: pair[1])
    with open(OUT + "/vocab.txt", "w", encoding="utf-8") as file:
        file.writelines(piece + "\n" for piece, _ in vocabulary)
    every = list(cases("vocab.txt", words)) + list(cases("bpe-vocab.json", pieces))
    every += list(cases("bpe_space_first.json", spaced))
    with open(OUT + "/cases.json", "w", encoding="utf-8") as file:
        json.dump({"cases": every, "letters": list(letters())}, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
