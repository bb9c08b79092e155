"""Makes tests/golden/tokenizers/*: small vocabularies trained with Hugging Face's tokenizers on the
sentences below, and the ids that it gives for them and for hard texts.

    python3 tests/golden/make_tokenizers.py        (needs tokenizers from PyPI)
"""
import json
import os
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

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
    if os.path.exists(OUT + "/wordpiece.json"):  # training it again would give other pieces
        return Tokenizer.from_file(OUT + "/wordpiece.json")
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
        kind = 6 if category in ("Mc", "Me") else kind
        base = [ord(c) for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn"]
        small = [ord(c) for c in text.lower()]
        if len(small) == 1 and (len(base) < 2 or 0xAC00 <= code < 0xD7A4):
            yield [code, kind, small[0]] + base


# ---- Pipelines: tokenizer.json of the families of decoders ----

MODERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NASTY = [
    "1234567 12 345 6789\u0663\u0664\u0665\u0666 \u00bd\u00b2 v1.2.3", "DON'T I'LL we'RE They'Ve 'S'T 'M'D \'\u017f \'lL",
    "I'm he's 'twas ''s 's", "a  b   c\td\t\te", "line\nline\r\nline\n\n\n  indented\n\t tab \n", "trailing   \n", "\n\n x",
    " \u00a0\u3000wide\u2003spaces ", "(hello) (hello)world ...what?! $5.00#tag @me a_b-c/d\\e",
    "!!\n\n??\r\n -- \n", "Cafe\u0301 \u0041\u030a \u212b \u1e9b\u0323 a\u0315\u0300\u05ae\u0323b \u0344 \u0958\u0929\u093c",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00 \uac00\u11a8 \u1100\u1161\u11a7", "\uf900\ufa0e \u2126 \u037e \U0002f800 \u2adc \ufb1d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd\u200d\U0001f4bb\u2764\ufe0f \U0001f1e9\U0001f1ea",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f the \u6771\u4eac tower",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0645\u064e\u0631\u062d\u064e\u0628\u0627",
    "\u2581the\u2581 boats \u2581", "\u2160\u24b6\u3289 \u0301 \u0903x \u20dd",
    "<|im_start|>user\nthe boats<|im_end|>\n", "the<s>boats</s> <s> </s>x", "a <tool> b<tool>c  <tool>  d <tool><tool>",
    "mark me MARK remark mark_s mark  ", "<|eot_id|><|eot_id|> the <|end_header_id|>\n\nboats", "<|im_st", "<mask> the <mask>boats <mask>",
    "Keeper's KEEPER harbour\u2014HARBOUR 'quote' \u201cdouble\u201d\u00a0.", "x" * 50 + "thethethe" * 9, "``quoted'' text", "the  ", "  the",
    "he ate . did n't , ' s do not they 're ? !", "\u0130stanbul \u03a3\u03a3 \u1e9e", "<0x41> <unk> <0xE2>", "the\u200dboat\u200c \u00ad", "x'\u017fab '\u017fab' 'LLy 'lly",
]


def byte_level(splitter, special, normalizer=None, size=420):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    # Trained without splitting: pieces lie across words, so that the ids show each word's end.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.train_from_iterator(SENTENCES + NASTY * 2 + ["1234567890" * 3, "\u017fab \u017fab x'LLy 'Re'"] * 4, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, max_token_length=4, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def isolated(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def without_merges(tokenizer, count):
    """ignore_merges, and pieces that no merge makes."""
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = True
    content["model"]["merges"] = content["model"]["merges"][:-count]
    return Tokenizer.from_str(json.dumps(content))


def characters(splitter, normalizer, options, fallback=()):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.train_from_iterator(SENTENCES[:5] + NASTY[:2] * 3, trainers.BpeTrainer(
        vocab_size=250 + len(fallback), show_progress=False, max_token_length=4, special_tokens=["<unk>", "<s>", "</s>"] + list(fallback),
        initial_alphabet=["\u2581"]))
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    content["model"].update(options)
    content["pre_tokenizer"] = json.loads(splitter.__getstate__()) if splitter else None
    return Tokenizer.from_str(json.dumps(content))


def mark(token, **how):
    return AddedToken(token, **how)


def pipelines():
    llama3 = byte_level(isolated(MODERN % r"\p{N}{1,3}"),
                        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    llama3 = without_merges(llama3, 20)
    begin = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)])])
    yield "llama3.json", llama3

    qwen = byte_level(isolated(MODERN % r"\p{N}"), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizers.NFC())
    qwen.add_tokens([mark("<tool>", normalized=False)])
    qwen.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "qwen2.json", qwen

    smollm = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    yield "smollm.json", smollm

    roberta = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT2), "removed", invert=True),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]),
                         ["<s>", "<pad>", "</s>", mark("<mask>", lstrip=True, normalized=False)], size=400)
    roberta.post_processor = processors.RobertaProcessing(("</s>", roberta.token_to_id("</s>")), ("<s>", roberta.token_to_id("<s>")))
    yield "roberta.json", roberta

    llama2 = characters(pre_tokenizers.Metaspace(prepend_scheme="first", split=False), None,
                        {"byte_fallback": True, "fuse_unk": True}, ["<0x%02X>" % b for b in range(256)])
    llama2.add_tokens([mark("<tool>", lstrip=True, rstrip=True, normalized=False), mark("mark", single_word=True, normalized=False)])
    llama2.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    llama2.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                        decoders.Strip(" ", 1, 0)])
    yield "llama2.json", llama2

    older = characters(None, normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
                       {"fuse_unk": True})
    older.add_tokens([mark(" <tool>", normalized=True), mark("MARK", rstrip=True, normalized=False)])
    older.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    yield "llama2_older.json", older

    split = characters(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(),
                                                pre_tokenizers.Metaspace(prepend_scheme="always")]),
                       normalizers.Sequence([normalizers.Strip(), normalizers.Replace("``", '"'), normalizers.NFD(),
                                             normalizers.Lowercase(), normalizers.StripAccents()]), {})
    split.add_tokens([mark("Mark", normalized=True, single_word=True)])
    split.decoder = decoders.Metaspace()
    yield "metaspace.json", split

    pieces = wordpiece()
    pieces.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    pieces.decoder = decoders.WordPiece(cleanup=True)
    pieces.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "wordpiece_steps.json", pieces

    level = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "boats": 2, "a": 3, "1": 4, "did": 5}, unk_token="<unk>"))
    level.normalizer = normalizers.BertNormalizer(strip_accents=False)
    level.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)])
    yield "wordlevel.json", level


def write_pipelines():
    texts = [text for text in NASTY + SENTENCES + HARD if "\0" not in text]
    every = {"texts": texts, "tokenizers": {}}
    for name, tokenizer in pipelines():
        path = OUT + "/" + name
        if not os.path.exists(path):  # training may give other pieces another time
            with open(path, "w", encoding="utf-8") as file:
                json.dump(json.loads(tokenizer.to_str()), file, separators=(",", ":"), ensure_ascii=False)
        tokenizer = Tokenizer.from_file(path)
        special = [tokenizer.encode(text).ids for text in texts]
        hidden = {i for i, token in tokenizer.get_added_tokens_decoder().items()
                  if token.special and token.content not in ("<unk>", "[UNK]")}  # we show the unknown piece
        decoded = [tokenizer.decode([i for i in ids if i not in hidden], skip_special_tokens=False) for ids in special]
        changed = {i for i, token in tokenizer.get_added_tokens_decoder().items()  # decoded as they are normalized:
                   if token.normalized and not token.special}                      # "mark" for the piece "Mark"
        decoded = [None if changed & set(ids) else text for ids, text in zip(special, decoded)]
        tokenizer.encode_special_tokens = True
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        every["tokenizers"][name] = {"plain": plain, "special": special, "decoded": decoded}
    with open(OUT + "/pipelines.json", "w", encoding="utf-8") as file:
        json.dump(every, file, separators=(",", ":"), ensure_ascii=False)


def forms():
    """Texts with their NFD and NFC: letters, marks and syllables in any order."""
    draw = random.Random(6)
    codes = [c for c in range(0xC0, 0x30000) if unicodedata.normalize("NFD", chr(c)) != chr(c)]
    marks = [c for c in range(0x300, 0x20000) if unicodedata.combining(chr(c))]
    parts = [ord(d) for c in codes for d in unicodedata.normalize("NFD", chr(c))]
    for _ in range(250):
        text = "".join(chr(draw.choice(draw.choice([codes, marks, parts, [0x61, 0x20, 0x1100, 0x1161, 0x11A8]])))
                       for _ in range(draw.randint(1, 6)))
        yield [text, unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)]


def write_compatible():
    """Texts of code points with a compatibility decomposition: NFKD, NFKC, and the ids of qwen2.json with
    NFKC, all by the tokenizers of Hugging Face, whose Unicode is older than Python's."""
    draw = random.Random(17)
    decomposed, composed = normalizers.NFKD(), normalizers.NFKC()
    codes = [c for c in range(0xA0, 0x30000) if not 0xD800 <= c < 0xE000
             and unicodedata.normalize("NFKD", chr(c)) != unicodedata.normalize("NFD", chr(c))]
    with open(OUT + "/qwen2.json", encoding="utf-8") as file:
        qwen = Tokenizer.from_str(file.read().replace('"type":"NFC"', '"type":"NFKC"'))
    every = []
    for start in range(0, 60):
        own = [chr(c) for c in codes[start * 3::400]]
        draw.shuffle(own)
        text = "".join(c + draw.choice(["", "", "a", " ", "\u0301", "\u0327", "\u4e00", "\uac00"]) for c in own)
        every.append([text, decomposed.normalize_str(text), composed.normalize_str(text),
                      qwen.encode(text, add_special_tokens=False).ids])
    with open(OUT + "/compatible.json", "w", encoding="utf-8") as file:
        json.dump(every, file, separators=(",", ":"))


# ---- Chats: ids and what is learnt, by transformers' apply_chat_template ----

CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
          "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
          "{% endif %}{{ '\n' }}{% endfor %}")
LLAMA3 = ("{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
          "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
          "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
          "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
          "{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}"
          "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %}"
          "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
          "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}"
          "{% generation %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}{% endfor %}")
CHATS = [
    [("user", "The boats?"), ("assistant", "They came in.")],
    [("system", "You count boats."), ("user", " How many barrels of fish?  "), ("assistant", "1,204 -- salted.\n"),
     ("user", "And letters, caf\u00e9s?"), ("assistant", "Nobody wrote\n\nthe letters; \u706f\u53f0!")],
    [("user", "a"), ("assistant", "b"), ("user", "tabs\there")],
]


def write_chats():
    from transformers import PreTrainedTokenizerFast
    every = []
    for name, template, bos, eos in (("qwen2.json", CHATML, None, "<|im_end|>"), ("llama3.json", LLAMA3, "<|begin_of_text|>", None),
                                     ("llama2.json", LLAMA2, "<s>", "</s>")):
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=OUT + "/" + name, bos_token=bos, eos_token=eos)
        for chat in CHATS:
            messages = [{"role": role, "content": content} for role, content in chat]
            out = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True,
                                                return_assistant_tokens_mask=True)
            every.append({"tokenizer": name, "line": json.dumps({"messages": messages}), "ids": list(out["input_ids"]),
                          "learnt": list(out["assistant_masks"])})
    with open(OUT + "/chats.json", "w", encoding="utf-8") as file:
        json.dump(every, file, separators=(",", ":"))


def main():
    os.makedirs(OUT, exist_ok=True)
    words, pieces, spaced = wordpiece(), byte_bpe(False), byte_bpe(True)
    if not os.path.exists(OUT + "/wordpiece.json"):
        words.save(OUT + "/wordpiece.json")
    spaced.save(OUT + "/bpe_space_first.json")
    pieces.model.save(OUT, "bpe")
    vocabulary = sorted(words.get_vocab().items(), key=lambda pair: pair[1])
    with open(OUT + "/vocab.txt", "w", encoding="utf-8") as file:
        file.writelines(piece + "\n" for piece, _ in vocabulary)
    every = list(cases("vocab.txt", words)) + list(cases("bpe-vocab.json", pieces))
    every += list(cases("bpe_space_first.json", spaced))
    write_pipelines()
    write_chats()
    write_compatible()
    with open(OUT + "/cases.json", "w", encoding="utf-8") as file:
        json.dump({"cases": every, "letters": list(letters()), "forms": list(forms())}, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
