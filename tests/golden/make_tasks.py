"""Makes tests/golden/tasks/* for tests/test_tasks.c: pairs of texts and regressions.

    python3 tests/golden/make_tasks.py  (needs torch, transformers, tokenizers, safetensors and scipy)

NAME.json               small tokenizers, one for each form of post-processor
cases.tsv               by Hugging Face's tokenizers, truncation longest_first: tokenizer, longest (0: no
                        cut), first text, second text, ids, types
regression/             a BERT with one output, as save_pretrained writes it
expected.safetensors    bert/, the network of encoders/bert with types of tokens, and regression/: ids,
                        types [3, 9], outputs, losses of ten steps of AdamW (rate 1e-3, weight decay
                        0.01), and the outputs after them; scores/K: outputs, targets, and scipy's
                        Pearson and Spearman
"""
import json
import os
import random
import shutil

import scipy.stats
import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from drawing import draw, ten_steps

GOLDEN = os.path.dirname(os.path.abspath(__file__))
HERE = GOLDEN + "/tasks"
TEXTS = [
    "the bread was fresh and the tea was hot", "a cold soup", "", "the tea", "was the soup hot?",
    "fresh bread, hot tea, cold soup and a cake: the baker sold all of it before noon", "a cake!",
]
torch.set_num_threads(1)


def wordpiece(processor):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(
        vocab_size=70, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    if processor:
        tokenizer.post_processor = processor
    return tokenizer


def bytes_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<s>", "<pad>", "</s>"], show_progress=False))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


TOKENIZERS = {
    "template": lambda: wordpiece(processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])),
    "odd_template": lambda: wordpiece(processors.TemplateProcessing(
        single="$A [SEP]", pair="[CLS]:1 $B:1 [SEP] [SEP] $A",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])),
    "bert": lambda: wordpiece(processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))),
    "none": lambda: wordpiece(None),
    "roberta": bytes_bpe,
}


def cases():
    for name, make in TOKENIZERS.items():
        tokenizer = make()
        content = json.loads(tokenizer.to_str())
        content["padding"] = content["truncation"] = None
        json.dump(content, open(f"{HERE}/{name}.json", "w"), indent=0)
        for first in TEXTS:
            for second in TEXTS:
                for longest in (0, 12, 7, 6) if name == "template" else (0, 7):
                    if longest:
                        tokenizer.enable_truncation(longest, strategy="longest_first")
                    else:
                        tokenizer.no_truncation()
                    e = tokenizer.encode(first, second)
                    yield "\t".join([name, str(longest), first, second, " ".join(map(str, e.ids)),
                                     " ".join(map(str, e.type_ids))])


def train(tensors, name, model, labels, mask):
    ids, types = tensors[f"{name}/ids"].long(), tensors[f"{name}/types"].long()
    tensors[f"{name}/outputs"] = model(ids, mask, types).logits.detach()
    tensors[f"{name}/losses"] = ten_steps(model, lambda: model(ids, mask, types, labels=labels).loss)
    tensors[f"{name}/after"] = model(ids, mask, types).logits.detach()


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    open(f"{HERE}/cases.tsv", "w").write("\n".join(cases()) + "\n")
    generator = torch.Generator().manual_seed(29)
    lengths = torch.tensor([9, 3, 5])
    mask = (torch.arange(9) < lengths[:, None]).long()
    tensors = {"lengths": lengths.int(), "labels": torch.tensor([2, 0, 1]).int(),
               "targets": torch.tensor([1.5, -0.25, 3.0])}
    for name in ("bert", "regression"):
        ids = torch.randint(2, 30, (3, 9), generator=generator) * mask
        types = (torch.arange(9) >= torch.tensor([4, 2, 3])[:, None]).long() * mask
        tensors[f"{name}/ids"], tensors[f"{name}/types"] = ids.int(), types.int()
    model = hf.BertForSequenceClassification.from_pretrained(f"{GOLDEN}/encoders/bert").eval()
    train(tensors, "bert", model, tensors["labels"].long(), mask)
    config = model.config
    config.num_labels, config.problem_type = 1, "regression"
    model = hf.BertForSequenceClassification(config).eval()
    draw(model, generator)
    model.save_pretrained(f"{HERE}/regression")
    train(tensors, "regression", model, tensors["targets"], mask)
    dice = random.Random(31)
    scores = [  # plain, with ties in both, another unit, no relation
        ([dice.gauss(0, 1) for _ in range(40)], 0.5, 1.0, 0.0, None),
        ([dice.gauss(0, 1) for _ in range(60)], 0.7, 1.0, 0.0, 0),
        ([dice.gauss(0, 1) for _ in range(33)], 0.2, 1e4, 3e5, 1),
        ([dice.gauss(0, 1) for _ in range(25)], 9.0, -1.0, 0.0, None),
    ]
    for k, (x, noise, scale, shift, digits) in enumerate(scores):
        y = [scale * (a + noise * dice.gauss(0, 1)) + shift for a in x]
        if digits is not None:
            x, y = [round(a, digits) for a in x], [round(b, digits) for b in y]
        x, y = torch.tensor(x), torch.tensor(y)
        tensors[f"scores/{k}/outputs"], tensors[f"scores/{k}/targets"] = x, y
        a, b = x.double().numpy(), y.double().numpy()
        tensors[f"scores/{k}/expected"] = torch.tensor(
            [scipy.stats.pearsonr(a, b).statistic, scipy.stats.spearmanr(a, b).statistic], dtype=torch.float64)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{HERE}/expected.safetensors")


if __name__ == "__main__":
    main()
