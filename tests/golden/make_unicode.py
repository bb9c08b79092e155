"""Prints the tables of finetune.h's section "Unicode", from the Unicode data that Python carries.

    python3 tests/golden/make_unicode.py

Needs nothing but Python. Code points that are not assigned may have any class and take that of
their neighbours, which is what keeps the table short."""
import sys
import unicodedata

LETTER, NUMBER, PUNCTUATION, MARK, CONTROL, SPACING_MARK, OTHER = 1, 2, 3, 4, 5, 6, 0


def class_of(code):
    category = unicodedata.category(chr(code))
    if category in ("Cn", "Cs"):
        return None
    if category in ("Cc", "Cf", "Co"):
        return CONTROL
    if category == "Mn":
        return MARK
    if category[0] == "M":
        return SPACING_MARK
    return {"L": LETTER, "N": NUMBER, "P": PUNCTUATION}.get(category[0], OTHER)


def without_marks(code):
    """Canonical decomposition without the marks that take no room; Hangul and the compatibility
    ideographs aside, and what becomes two letters."""
    if 0xAC00 <= code < 0xD7A4 or 0xF900 <= code <= 0xFAFF or 0x2F800 <= code <= 0x2FA1F:
        return code
    rest = [c for c in unicodedata.normalize("NFD", chr(code)) if unicodedata.category(c) != "Mn"]
    return ord(rest[0]) if len(rest) == 1 else code


def lower(code):
    text = chr(code).lower()
    return ord(text) if len(text) == 1 else code


def all_codes():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def class_runs():
    """Start * 8 + class of each run."""
    last = None
    for code in all_codes():
        k = class_of(code)
        if k is not None and k != last:
            yield code * 8 + k
            last = k


def mapping_runs(function, shared):
    """[from, count, step, to]: codes from, from + step, ... map to `to` all (shared), or to
    codes that lie as far apart."""
    runs = []
    for code in all_codes():
        to = function(code)
        if to == code:
            continue
        if runs:
            first, count, step, target = runs[-1]
            gap = code - (first + (count - 1) * step)
            fits = to == target if shared else to - code == target - first
            if fits and (gap == step or (count == 1 and gap in (1, 2))):
                runs[-1] = [first, count + 1, gap, target]
                continue
        runs.append([code, 1, 1, to])
    return runs


# ---- Normal forms: the tables of the section "Normal forms" ----

def decomposition(code):
    """One step of the canonical decomposition: [] or one or two code points."""
    fields = unicodedata.decomposition(chr(code)).split()
    return [] if not fields or fields[0].startswith("<") else [int(f, 16) for f in fields]


def pairs():
    """[code, first, second]; a code that is never composed has 0x80000000 added."""
    for code in all_codes():
        parts = decomposition(code)
        if len(parts) == 2:
            excluded = unicodedata.normalize("NFC", chr(code)) != chr(code)
            yield code, parts[0] + (excluded << 31), parts[1]


def compositions():
    """The places in pairs() of those that are composed, by first and second."""
    every = [(first, second, place) for place, (_, first, second) in enumerate(pairs())]
    return [place for first, second, place in sorted(every) if first < 1 << 31]


def singles():
    """Runs of codes that become one other code: first code, count, then what each becomes."""
    run = []
    for code in list(all_codes()) + [-1]:
        parts = decomposition(code) if code >= 0 else []
        if run and (len(parts) != 1 or code != run[0] + len(run) - 1):
            yield from [run[0], len(run) - 1] + run[1:]
            run = []
        if len(parts) == 1:
            run = run + parts if run else [code] + parts


# Assigned after Unicode 11, whose tables Hugging Face's tokenizers have (by the Rust crate
# unicode-normalization-alignments): there they stay as they are.
AFTER_11 = {0x32FF, *range(0xA7F2, 0xA7F5), 0xAB69, *range(0x10780, 0x107BB), 0x1F16C, *range(0x1FBF0, 0x1FBFA)}


def compatible(code):
    """The whole compatibility decomposition, where it is another than the canonical one; else []."""
    whole = unicodedata.normalize("NFKD", chr(code))
    if code in AFTER_11 or whole == unicodedata.normalize("NFD", chr(code)):
        return []
    return [ord(c) for c in whole]


def compatible_runs():
    """Of each run of codes: length of what one becomes + 32 * (a gap before it) + 64 * (which number,
    from 1, grows by 1 from code to code; 0: none) + 256 * codes; the gap; what the first becomes."""
    runs = []  # [first code, codes, what grows, what the first becomes, what the last becomes]
    for code in all_codes():
        parts = compatible(code)
        if not parts:
            continue
        if runs:
            first, count, grows, begin, last = runs[-1]
            growth = [b - a for a, b in zip(last, parts)]
            place = growth.index(1) + 1 if 1 in growth else 0
            if (code == first + count and len(parts) == len(last) and place < 4 and count < 255
                    and set(growth) <= {0, 1} and sum(growth) <= 1 and (count == 1 or place == grows)):
                runs[-1] = [first, count + 1, place, begin, parts]
                continue
        runs.append([code, 1, 0, parts, parts])
    end = 0
    for first, count, grows, begin, _ in runs:
        gap = [first - end] if first > end else []
        yield from [len(begin) + 32 * len(gap) + 64 * grows + 256 * count] + gap + begin
        end = first + count


def order_runs():
    """Start * 256 + canonical combining class of each run."""
    last = None
    for code in all_codes():
        if unicodedata.category(chr(code)) == "Cn":
            continue
        order = unicodedata.combining(chr(code))
        if order != last:
            yield code * 256 + order
            last = order


def print_array(declaration, numbers):
    print(declaration + " = {")
    line = "   "
    for text in numbers:
        if len(line) + len(text) + 2 > 100:
            print(line)
            line = "   "
        line += " " + text + ","
    print(line + "\n};\n")


def main():
    print("/* Unicode", unicodedata.unidata_version, "*/")
    print_array("static const uint32_t ft__unicode_classes[]", [str(n) for n in class_runs()])
    for name, function, shared in (("bases", without_marks, True), ("lower", lower, False)):
        rows = ["{%d,%d,%d,%d}" % tuple(run) for run in mapping_runs(function, shared)]
        print_array("static const ft__unicode_run ft__unicode_%s[]" % name, rows)
    rows = ["{%d,%du,%d}" % row if row[1] >> 31 else "{%d,%d,%d}" % row for row in pairs()]
    print_array("static const ft__unicode_pair ft__unicode_pairs[]", rows)
    for kind, name, numbers in (("uint16_t", "compositions", compositions()),
                                ("uint32_t", "singles", singles()),
                                ("uint32_t", "orders", order_runs()),
                                ("uint16_t", "compatible", compatible_runs())):
        print_array("static const %s ft__unicode_%s[]" % (kind, name), [str(n) for n in numbers])


if __name__ == "__main__":
    sys.exit(main())
