"""Makes what tests/test_ner.c compares with, by Hugging Face's libraries and by seqeval.

    python3 tests/golden/make_ner.py   (needs torch, transformers, safetensors and seqeval from PyPI)

ner/NAME/           config.json and model.safetensors of a ...ForTokenClassification
ner/expected.safetensors
                    per NAME: ids [3, 9], lengths [3] and labels [3, 9] (-1: not counted);
                    NAME/logits [3, 9, 3], zeros behind a text's end; NAME/losses of ten steps of AdamW
                    (rate 1e-3, weight decay 0.01, no dropout), and NAME/after, the logits then
ner/pieces.txt      of each tokeniser of golden/tokenizers its file; then per sentence its words, the
                    ids with is_split_into_words, and for each word the place of its first id or -1
ner/entities.txt    per case the number of sentences, and seqeval's precision, recall and F1; then of
                    each sentence the true and the predicted tags
"""
import json
import os
import random
import shutil
import warnings

import torch
import transformers as hf
from safetensors.torch import save_file
from seqeval.metrics import f1_score, precision_score, recall_score
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from drawing import draw, ten_steps

warnings.filterwarnings("ignore")
GOLDEN = os.path.dirname(os.path.abspath(__file__))
HERE = GOLDEN + "/ner"
torch.set_num_threads(1)
SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 12, "hidden_dropout_prob": 0.0,
         "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
DISTIL = {"vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
          "max_position_embeddings": 12, "dropout": 0.0, "attention_dropout": 0.0}
LABELS = {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}, "label2id": {"O": 0, "B-PER": 1, "I-PER": 2}}
NETWORKS = {
    "bert": hf.BertForTokenClassification(hf.BertConfig(**SIZES, **LABELS)),
    "roberta": hf.RobertaForTokenClassification(hf.RobertaConfig(
        **{**SIZES, "max_position_embeddings": 14, "type_vocab_size": 1}, pad_token_id=1,
        layer_norm_eps=1e-5, num_labels=3)),
    "distilbert": hf.DistilBertForTokenClassification(hf.DistilBertConfig(**DISTIL, **LABELS)),
}
SENTENCES = [
    ["The", "lighthouse", "keeper", "'s", "daughter", "did", "n't", "believe"],
    ["@paulwalk", "It", "'s", "#here", "!!!", "U.S.", "1,204", "state-of-the-art"],
    ["Caf\u00e9", "na\u00efve", "\u706f\u53f0\u306e", "\u0412\u0435\u0442\u0435\u0440", "\u00dcber"],
    ["one"],
    ["\u200d", "boats", "\ufe0f", "\u2764\ufe0f", "\U0001f600"],  # of some nothing is left
    ["two words", "x" * 120, "\u0301"],
]


def networks():
    generator = torch.Generator().manual_seed(29)
    lengths = torch.tensor([9, 1, 5])
    real = torch.arange(9) < lengths[:, None]
    ids = torch.randint(2, 30, (3, 9), generator=generator)
    labels = torch.randint(0, 3, (3, 9), generator=generator)
    labels[0, 0] = labels[0, 4] = labels[2, 3] = -1  # [CLS], and pieces inside words
    labels = torch.where(real, labels, -1)
    tensors = {"lengths": lengths.int(), "labels": labels.int()}
    for name, model in NETWORKS.items():
        padded = torch.where(real, ids, model.config.pad_token_id)
        tensors[f"{name}/ids"] = padded.int()
        draw(model, generator)
        model.save_pretrained(f"{HERE}/{name}")
        mask = real.long()
        wanted = torch.where(labels < 0, -100, labels)
        tensors[f"{name}/logits"] = model(padded, mask).logits.detach() * mask[:, :, None]
        tensors[f"{name}/losses"] = ten_steps(model, lambda: model(padded, mask, labels=wanted).loss)
        tensors[f"{name}/after"] = model(padded, mask).logits.detach() * mask[:, :, None]
        path = f"{HERE}/{name}/config.json"
        config = json.load(open(path))
        config.pop("transformers_version", None)
        json.dump(config, open(path, "w"), indent=1)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")


def pieces():
    with open(f"{HERE}/pieces.txt", "w", encoding="utf-8") as out:
        for file in ("wordpiece.json", "bpe_space_first.json", "bpe-vocab.json"):
            path = f"{GOLDEN}/tokenizers/{file}"
            if file == "bpe-vocab.json":  # without a space first, which Hugging Face refuses for words
                tokenizer = Tokenizer(BPE.from_file(path, f"{GOLDEN}/tokenizers/bpe-merges.txt"))
                tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
            else:
                tokenizer = Tokenizer.from_file(path)
            out.write(f"{file}\n")
            for words in SENTENCES:
                made = tokenizer.encode(words, is_pretokenized=True)
                places = [made.word_ids.index(w) if w in made.word_ids else -1 for w in range(len(words))]
                out.write("\t".join(words) + "\n" + " ".join(map(str, made.ids)) + "\n"
                          + " ".join(map(str, places)) + "\n")


def entities():
    random.seed(31)
    tags = ["O", "B-a", "I-a", "B-b-c", "I-b-c"]
    cases = [  # each of seqeval's rules
        ([["B-a", "I-a", "O"]], [["B-a", "I-a", "O"]]),
        ([["B-a", "I-a", "O"]], [["I-a", "I-a", "O"]]),  # I- begins one
        ([["B-a", "I-a", "I-a"]], [["B-a", "B-a", "I-a"]]),
        ([["B-a", "I-a"]], [["B-a", "I-b-c"]]),  # another type begins one
        ([["O", "O"]], [["O", "O"]]),
        ([["B-a"]], [["O"]]),
        ([["O"]], [["B-a"]]),
        ([["B-a"], ["I-a"]], [["B-a"], ["I-a"]]),  # one does not go on in the next sentence
    ]
    for _ in range(30):
        gold = [[random.choice(tags) for _ in range(random.randint(1, 9))] for _ in range(random.randint(1, 4))]
        guess = [[t if random.random() < 0.7 else random.choice(tags) for t in s] for s in gold]
        cases.append((gold, guess))
    with open(f"{HERE}/entities.txt", "w", encoding="utf-8") as out:
        for gold, guess in cases:
            out.write(f"{len(gold)} {precision_score(gold, guess):.9f} {recall_score(gold, guess):.9f}"
                      f" {f1_score(gold, guess):.9f}\n")
            for a, b in zip(gold, guess):
                out.write(" ".join(a) + "\n" + " ".join(b) + "\n")


shutil.rmtree(HERE, ignore_errors=True)
os.makedirs(HERE)
networks()
pieces()
entities()
