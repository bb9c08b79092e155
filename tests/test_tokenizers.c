/* test_tokenizers.c - texts give the same ids as Hugging Face's tokenizers (goldens made by
   tests/golden/make_tokenizers.py), and ids give texts again; hostile texts and files do no harm.

     build/test_tokenizers --ids TOKENIZER < TEXT     prints the ids of each line (test-long) */
#include "check.h"

#include "internals.h"

static const char folder[] = "tests/golden/tokenizers/";

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1};
    return ft_create(desc);
}

static ft_tokenizer *load(ft_model *m, const char *name)
{
    char path[256];
    ft_tokenizer *t;
    snprintf(path, sizeof path, "%s%s", folder, name);
    t = ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
    CHECK(t != NULL, "%s: %s", name, ft_error_text(m));
    return t;
}

static void same_ids(ft_tokens got, const int *want, int count, const char *what)
{
    int i, same = got.count == count;
    for (i = 0; same && i < count; ++i) same = got.ids[i] == want[i];
    CHECK(same, "%s: %d ids, %d wanted; the first are %d %d, wanted %d %d", what, got.count, count,
          got.count ? (int)got.ids[0] : -1, got.count > 1 ? (int)got.ids[1] : -1,
          count ? want[0] : -1, count > 1 ? want[1] : -1);
}

/* ---- Goldens ---- */

static ft__json *read_cases(ft_model *m, unsigned char **text)
{
    size_t bytes;
    char path[256];
    ft__json *json;
    snprintf(path, sizeof path, "%scases.json", folder);
    *text = ft__read_file(&m->context, path, &bytes);
    json = *text ? ft__json_parse(&m->context, (const char *)*text, bytes) : NULL;
    CHECK(json != NULL, "cases.json is read: %s", ft_error_text(m));
    return json;
}

/* A text of a case: where NUL was, which JSON here cannot hold, \1 stands. */
static size_t case_text(const ft__json *json, int one, const char *key, char *to, size_t size)
{
    bool nul = ft__json_true(json, ft__json_member(json, one, "nul"));
    size_t bytes = (size_t)snprintf(to, size, "%s",
                                    ft__json_string(json, ft__json_member(json, one, key))), i;
    for (i = 0; i < bytes; ++i)
        if (nul && to[i] == 1) to[i] = 0;
    return bytes;
}

/* The ids of a list, up to `most`; returns how many the list has. */
static int read_ids(const ft__json *json, int list, int *to, int most)
{
    int count = ft__json_count(json, list), i;
    for (i = 0; i < count && i < most; ++i) {
        int64_t id = -1;
        ft__json_int(json, ft__json_element(json, list, i), &id);
        to[i] = (int)id;
    }
    return count;
}

static void golden_case(const ft__json *json, int one, ft_tokenizer *t, const char *name)
{
    static char text[4096], decoded[4096];
    size_t bytes = case_text(json, one, "text", text, sizeof text), got_bytes;
    size_t decoded_bytes = case_text(json, one, "decoded", decoded, sizeof decoded);
    int want[1024], count = read_ids(json, ft__json_member(json, one, "ids"), want, 1024);
    const char *got;
    same_ids(ft_tokenize(t, text, bytes, (ft_tokenize_options){0}), want, count, text);
    got = ft_detokenize(t, want, count, &got_bytes);
    CHECK(got_bytes == decoded_bytes && memcmp(got, decoded, got_bytes) == 0,
          "%s: decoded is '%s', wanted '%s'", name, got, decoded);
}

static void test_goldens(const char *name)
{
    ft_model *m = new_model();
    unsigned char *content;
    ft__json *json = read_cases(m, &content);
    ft_tokenizer *t = load(m, name);
    int cases = ft__json_member(json, 0, "cases"), i, used = 0;
    const char *as = strcmp(name, "wordpiece.json") ? name : "vocab.txt";
    for (i = cases + 1; t && i < json->values[cases].next; i = json->values[i].next) {
        const char *of = ft__json_string(json, ft__json_member(json, i, "tokenizer"));
        if (strcmp(of, as) != 0) continue;
        golden_case(json, i, t, name);
        used += 1;
    }
    CHECK(used > 30, "%s: %d cases", name, used);
    /* The same again from what a model file would hold. */
    CHECK(ft_set_tokenizer(m, t) == FT_OK, "%s", ft_error_text(m));
    t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = m->tokenizer_text,
                                                          .bytes = strlen(m->tokenizer_text)});
    CHECK(t != NULL, "%s from memory: %s", name, ft_error_text(m));
    for (i = cases + 1; t && i < json->values[cases].next; i = json->values[i].next)
        if (!strcmp(ft__json_string(json, ft__json_member(json, i, "tokenizer")), as))
            golden_case(json, i, t, name);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

/* One text of pipelines.json: its ids as plain text, those with special pieces, and their text. */
static void pipeline_case(ft_tokenizer *t, const char *name, const ft__json *json, int of, int at,
                          const char *text)
{
    int plain = ft__json_element(json, ft__json_member(json, of, "plain"), at), want[1024], i;
    int special = ft__json_element(json, ft__json_member(json, of, "special"), at), count;
    const char *decoded = ft__json_string(json, ft__json_element(
        json, ft__json_member(json, of, "decoded"), at)), *got;
    char what[300];
    int64_t id = -1;
    int lists[2];
    int32_t ids[1024];
    lists[0] = plain;
    lists[1] = special;
    for (i = 0; i < 2; ++i) {
        int k = lists[i] + 1;
        for (count = 0; k < json->values[lists[i]].next && count < 1024; ++k, ++count) {
            ft__json_int(json, k, &id);
            want[count] = (int)id;
            ids[count] = (int32_t)id;
        }
        snprintf(what, sizeof what, "%s: %s: %.200s", name, i ? "special" : "plain", text);
        same_ids(ft_tokenize(t, text, strlen(text), (ft_tokenize_options){.special = i == 1,
                             .parse_special = i == 1}), want, count, what);
    }
    got = ft_detokenize(t, ids, count, NULL);
    CHECK(!decoded || !strcmp(got, decoded), "%s: decoded is '%s', wanted '%s'", name, got, decoded);
}

/* Tokenizers of other families: byte-level BPE with Llama 3's, Qwen's, SmolLM's and RoBERTa's
   steps, BPE of characters with and without byte fallback, and the other steps. */
static void test_pipelines(void)
{
    ft_model *m = new_model();
    unsigned char *content;
    size_t bytes;
    char path[256];
    ft__json *json;
    int texts, families, family, round, at, text, seen = 0;
    snprintf(path, sizeof path, "%spipelines.json", folder);
    content = ft__read_file(&m->context, path, &bytes);
    json = content ? ft__json_parse(&m->context, (const char *)content, bytes) : NULL;
    CHECK(json != NULL, "pipelines.json is read: %s", ft_error_text(m));
    if (!json) return;
    texts = ft__json_member(json, 0, "texts");
    families = ft__json_member(json, 0, "tokenizers");
    for (family = families + 1; family < json->values[families].next;
         family = json->values[family].next, ++seen) {
        const char *name = json->values[family].key;
        ft_tokenizer *t = load(m, name);
        for (round = 0; t && round < 2; ++round) { /* then from what a model file would hold */
            text = texts + 1;
            for (at = 0; text < json->values[texts].next; ++at, text = json->values[text].next)
                pipeline_case(t, name, json, family, at, ft__json_string(json, text));
            if (round == 0) CHECK(ft_set_tokenizer(m, t) == FT_OK, "%s", ft_error_text(m));
            if (round == 0) t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){
                .memory = m->tokenizer_text, .bytes = strlen(m->tokenizer_text)});
        }
    }
    CHECK(seen == 9, "%d tokenizers", seen);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

static void test_letters(void)
{
    ft_model *m = new_model();
    unsigned char *content;
    ft__json *json = read_cases(m, &content);
    int list = ft__json_member(json, 0, "letters"), i, seen = 0;
    for (i = list + 1; i < json->values[list].next; i = json->values[i].next, ++seen) {
        int64_t fact[6] = {0};
        uint32_t base[3], code;
        int count = ft__json_count(json, i), k, bases;
        for (k = 0; k < count && k < 6; ++k) ft__json_int(json, ft__json_element(json, i, k), &fact[k]);
        code = (uint32_t)fact[0];
        CHECK(ft__unicode_class(code) == fact[1], "class of U+%04X", code);
        CHECK(ft__unicode_to_lower(code) == fact[2], "small letter of U+%04X", code);
        bases = ft__unicode_base(code, base);
        CHECK(bases == count - 3, "letters under U+%04X: %d", code, bases);
        for (k = 0; k < bases && k < count - 3; ++k)
            CHECK(base[k] == fact[3 + k], "letter under U+%04X: U+%04X", code, base[k]);
    }
    CHECK(seen > 500, "%d letters", seen);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

static void check_form(ft__codes *codes, ft__text *text, const char *from, int form, const char *want)
{
    static const char *const names[] = {"NFD", "NFC", "NFKD", "NFKC"};
    text->count = 0;
    ft__normal_form(codes, from, strlen(from), form, text);
    CHECK(!strcmp(text->letters, want), "%s of %s: %s, wanted %s", names[form], from, text->letters, want);
}

/* NFD and NFC, as Python has them; a byte that is not UTF-8 stays. */
static void test_forms(void)
{
    ft_model *m = new_model();
    unsigned char *content;
    ft__json *json = read_cases(m, &content);
    int list = ft__json_member(json, 0, "forms"), i, seen = 0;
    ft__codes codes = {&m->context, NULL, 0, 0};
    ft__text text = {&m->context, NULL, 0, 0};
    for (i = list + 1; i < json->values[list].next; i = json->values[i].next, ++seen) {
        const char *from = ft__json_string(json, ft__json_element(json, i, 0));
        check_form(&codes, &text, from, FT__NFD, ft__json_string(json, ft__json_element(json, i, 1)));
        check_form(&codes, &text, from, FT__NFC, ft__json_string(json, ft__json_element(json, i, 2)));
    }
    CHECK(seen == 250, "%d texts", seen);
    text.count = 0;
    ft__normal_form(&codes, "e\xff\xcc\x81\xcc" "e\xcc\x81", 8, FT__NFC, &text);
    CHECK(!strcmp(text.letters, "e\xff\xcc\x81\xcc\xc3\xa9"), "bytes that are not UTF-8");
    ft__release(&m->context, codes.values);
    ft__release(&m->context, text.letters);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

/* qwen2.json with another normalizer. */
static ft_tokenizer *with_form(ft_model *m, const char *form)
{
    static const char nfc[] = "\"type\":\"NFC\"";
    ft_tokenizer_options o = {0};
    ft_tokenizer *t;
    ft__text text = {&m->context, NULL, 0, 0};
    size_t bytes;
    char *content = (char *)ft__read_file(&m->context, "tests/golden/tokenizers/qwen2.json", &bytes);
    char *at = content ? strstr(content, nfc) : NULL;
    CHECK(at != NULL, "qwen2.json has the normalizer NFC");
    if (!at) return NULL;
    ft__text_add_bytes(&text, content, (size_t)(at - content));
    ft__text_add(&text, "\"type\":\"%s\"", form);
    ft__text_add_bytes(&text, at + strlen(nfc), bytes - (size_t)(at - content) - strlen(nfc));
    o.memory = text.letters;
    o.bytes = text.count;
    t = ft_tokenizer_load(m, form, o);
    CHECK(t != NULL, "%s: %s", form, ft_error_text(m));
    ft__release(&m->context, content);
    ft__release(&m->context, text.letters);
    return t;
}

/* NFKD, NFKC and the ids after it, as Hugging Face's tokenizers have them. */
static void test_compatible(void)
{
    ft_model *m = new_model();
    size_t bytes;
    unsigned char *content = ft__read_file(&m->context, "tests/golden/tokenizers/compatible.json", &bytes);
    ft__json *json = content ? ft__json_parse(&m->context, (const char *)content, bytes) : NULL;
    ft_tokenizer *t = with_form(m, "NFKC");
    ft__codes codes = {&m->context, NULL, 0, 0};
    ft__text text = {&m->context, NULL, 0, 0};
    int i, seen = 0, want[512];
    CHECK(json != NULL, "compatible.json: %s", ft_error_text(m));
    for (i = 1; json && t && i < json->values[0].next; i = json->values[i].next, ++seen) {
        const char *from = ft__json_string(json, ft__json_element(json, i, 0));
        int count = read_ids(json, ft__json_element(json, i, 3), want, 512);
        check_form(&codes, &text, from, FT__NFKD, ft__json_string(json, ft__json_element(json, i, 1)));
        check_form(&codes, &text, from, FT__NFKC, ft__json_string(json, ft__json_element(json, i, 2)));
        same_ids(ft_tokenize(t, from, strlen(from), (ft_tokenize_options){0}), want, count, from);
    }
    CHECK(seen == 60, "%d texts", seen);
    ft__release(&m->context, codes.values);
    ft__release(&m->context, text.letters);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

/* ---- Kinds without a golden ---- */

static void test_special(void)
{
    ft_model *m = new_model();
    ft_tokenizer *words = load(m, "wordpiece.json"), *lines = load(m, "vocab.txt");
    ft_tokenizer *bytes = load(m, "bpe_space_first.json");
    ft_tokens a = ft_tokenize(words, "the boats", 9, (ft_tokenize_options){.special = true});
    int count = a.count, ids[8], i;
    CHECK(count >= 4 && a.ids[0] == 2 && a.ids[count - 1] == 3, "[CLS] the boats [SEP]");
    for (i = 0; i < count && i < 8; ++i) ids[i] = a.ids[i];
    CHECK(!strcmp(ft_detokenize(words, ids, count, NULL), "the boats"), "special pieces are no text");
    same_ids(ft_tokenize(lines, "the boats", 9, (ft_tokenize_options){.special = true}), ids, count,
             "vocab.txt");
    CHECK(ft_tokenizer_find(bytes, "<|endoftext|>") == 0, "the special piece of BPE");
    CHECK(!strcmp(ft_detokenize(bytes, (int[]){0}, 1, NULL), ""), "it is no text");
    CHECK(ft_tokenizer_piece(words, 1 << 20) == NULL && ft_tokenizer_find(words, "nothing") == -1,
          "looking up what is not there");
    ft_detokenize(words, (int[]){-1}, 1, NULL);
    CHECK(ft_error(m) == FT_INVALID, "an id that is none");
    ft_destroy(m);
}

static void test_words(void)
{
    const char *const texts[] = {"The boat, the Boats and the sea.", "A boat; a SEA na\xc3\xafve",
                                 "", "\xff\xfe boat"};
    ft_model *m = new_model();
    ft_tokenizer *t = ft_tokenizer_build(m, FT_WORDS, texts, 4,
                                         (ft_vocabulary_options){.minimum_count = 2});
    /* the 3, boat 3, a 2, sea 2; equal counts by name */
    const int want[] = {4, 3, 6, 1};
    CHECK(t && ft_tokenizer_count(t) == 7, "%d words: %s", ft_tokenizer_count(t), ft_error_text(m));
    same_ids(ft_tokenize(t, "the BOAT sea ship", 17, (ft_tokenize_options){0}), want, 4, "words");
    CHECK(!strcmp(ft_detokenize(t, want, 4, NULL), "the boat sea <unk>"), "words decoded");
    CHECK(!strcmp(ft_tokenizer_piece(t, 2), "<eos>"), "special words");
    t = ft_tokenizer_build(m, FT_WORDS, texts, 4, (ft_vocabulary_options){.spaces_only = true,
                                                                          .cased = true});
    CHECK(ft_tokenizer_find(t, "sea.") >= 3 && ft_tokenizer_find(t, "SEA") >= 3
          && ft_tokenizer_find(t, "sea") < 0, "words as they stand between spaces");
    t = ft_tokenizer_build(m, FT_CHARACTERS, texts, 4, (ft_vocabulary_options){.most = 5});
    CHECK(t && ft_tokenizer_count(t) == 5 && !strcmp(ft_tokenizer_piece(t, 0), " "),
          "the five most frequent characters, the space first");
    CHECK(ft_tokenize(t, "zzz", 3, (ft_tokenize_options){0}).count == 0, "others are left out");
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* llama2.c's form: pieces of length 1, bytes, and two merges of which the later scores higher. */
static void put(unsigned char *file, size_t *at, float score, const char *piece)
{
    int32_t bytes = (int32_t)strlen(piece);
    memcpy(file + *at, &score, 4);
    memcpy(file + *at + 4, &bytes, 4);
    memcpy(file + *at + 8, piece, (size_t)bytes);
    *at += 8 + (size_t)bytes;
}

static void test_scored(void)
{
    static unsigned char file[8192];
    static const char *const pieces[] = {" ", "a", "b", "c", "ab", "bc", " a", "abc", "\xc3\xa9",
                                         "abcabc"};
    static const float scores[] = {-90, -91, -92, -93, -5, -2, -7, -9, -94, -11};
    ft_model *m = new_model();
    ft_tokenizer *t;
    char text[16];
    size_t at = 4, i;
    int32_t longest = 6;
    memcpy(file, &longest, 4);
    put(file, &at, -20, "ca"); /* "<unk>" in llama2.c's files; any piece may be a merge's result */
    put(file, &at, 0, "\n<s>\n");
    put(file, &at, 0, "\n</s>\n");
    for (i = 0; i < 256; ++i) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)i);
        put(file, &at, 0, text);
    }
    for (i = 0; i < 10; ++i) put(file, &at, scores[i], pieces[i]);
    t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = file, .bytes = at});
    CHECK(t && ft_tokenizer_count(t) == 269, "%d pieces: %s", ft_tokenizer_count(t), ft_error_text(m));
    /* " abc": b + c scores highest, then " " + a; neither " a" nor "bc" merges on. */
    same_ids(ft_tokenize(t, "abc\xc4\xa6\xc3\xa9", 7, (ft_tokenize_options){.special = true}),
             (const int[]){1, 265, 264, 199, 169, 267}, 6, "scored BPE");
    CHECK(!strcmp(ft_detokenize(t, (const int32_t[]){1, 265, 264, 199, 169, 267}, 6, NULL),
                  "abc\xc4\xa6\xc3\xa9"), "scored BPE decoded");
    /* a + bc, of which the first is shorter, and twice that: as many bytes as the longest piece */
    same_ids(ft_tokenize(t, "\xc4\xa6" "abc", 5, (ft_tokenize_options){0}),
             (const int[]){259, 199, 169, 266}, 4, "a and bc");
    same_ids(ft_tokenize(t, "\xc4\xa6" "abcabc", 8, (ft_tokenize_options){0}),
             (const int[]){259, 199, 169, 268}, 4, "the longest piece");
    same_ids(ft_tokenize(t, "\xc4\xa6" "ca", 4, (ft_tokenize_options){0}),
             (const int[]){259, 199, 169, 0}, 4, "the first piece");
    for (i = 0; i < at; ++i) { /* cut anywhere */
        ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = file, .bytes = i});
        ft_clear_error(m);
    }
    ft_destroy(m);
}

/* tok512.bin, as llama2.c reads it: the ids that stories260K itself gives, one by one, for the text
   that it begins with, and the text of those. */
static void test_tok512(void)
{
    const char *data = getenv("FINETUNE_DATA");
    static const int story[] = {
        1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396,
        267, 337, 410, 408, 419, 292, 411, 322, 265, 282, 295, 433, 426};
    const char told[] = "Once upon a time, there was a little girl named Lily. She loved to play"
                        " outside in the park.";
    const char text[] = "Once upon a time, there was a little girl named Lily.\n\xe2\x82\xac";
    char path[512];
    ft_model *m = new_model();
    ft_tokenizer *t;
    ft_tokens tokens;
    int32_t ids[128];
    FILE *file;
    snprintf(path, sizeof path, "%s/weights/tok512.bin", data ? data : "../shared/data");
    file = fopen(path, "rb");
    if (!file) {
        SKIP("tok512.bin is not there");
        ft_destroy(m);
        return;
    }
    fclose(file);
    t = ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
    CHECK(t && ft_tokenizer_count(t) == 512, "%s", ft_error_text(m));
    tokens = ft_tokenize(t, text, sizeof text - 1, (ft_tokenize_options){.special = true});
    CHECK(tokens.count > 10 && tokens.count < 60 && tokens.ids[0] == 1, "%d tokens", tokens.count);
    if (tokens.count > 0 && tokens.count < 128) {
        memcpy(ids, tokens.ids, (size_t)tokens.count * sizeof *ids);
        CHECK(!strcmp(ft_detokenize(t, ids, tokens.count, NULL), text), "there and back");
    }
    same_ids(ft_tokenize(t, told, sizeof told - 1, (ft_tokenize_options){.special = true}), story,
             (int)(sizeof story / sizeof story[0]), "the story's ids");
    CHECK(!strcmp(ft_detokenize(t, (const int32_t *)story, (int)(sizeof story / sizeof story[0]),
                                NULL), told), "the story's text");
    ft_destroy(m);
}

/* ---- Hostile ---- */

static uint64_t state = 7;
static unsigned next_random(void) { return (unsigned)(ft__mix(state++) >> 33); }

/* Every kind keeps all bytes that it can: BPE gives any text back as it was. */
static void test_any_bytes(void)
{
    ft_model *m = new_model();
    ft_tokenizer *bpe = load(m, "bpe-vocab.json"), *words = load(m, "vocab.txt");
    int round, i;
    for (round = 0; round < 400; ++round) {
        char text[64];
        size_t count = next_random() % sizeof text, bytes;
        int32_t ids[256];
        ft_tokens tokens;
        const char *back;
        for (i = 0; i < (int)count; ++i)
            text[i] = round % 2 ? (char)next_random()
                                : " 'ste\n1.\xe2\x82\xac\xc3"[next_random() % 12];
        ft_tokenize(words, text, count, (ft_tokenize_options){0});
        tokens = ft_tokenize(bpe, text, count, (ft_tokenize_options){0});
        CHECK(tokens.count <= (int)count, "%d tokens of %zu bytes", tokens.count, count);
        memcpy(ids, tokens.ids, (size_t)tokens.count * sizeof *ids);
        back = ft_detokenize(bpe, ids, tokens.count, &bytes);
        CHECK(bytes == count && memcmp(back, text, bytes) == 0, "bytes there and back");
    }
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
}

/* A megabyte without a space, of one letter and of many: quadratic time would take hours. */
static void test_megabyte(void)
{
    enum { BYTES = 1 << 20 };
    static const char *const names[] = {"bpe-vocab.json", "vocab.txt"};
    char *text = (char *)malloc(BYTES);
    int i, n, kind;
    for (n = 0; n < 2; ++n)
        for (kind = 0; kind < 4; ++kind) {
            ft_model *m = new_model();
            ft_tokenizer *t = load(m, names[n]);
            ft_tokens tokens;
            for (i = 0; i < BYTES; ++i)
                text[i] = kind == 0 ? 't' : kind == 1 ? "theboats"[i % 8] : kind == 2 ? '\n'
                    : (char)next_random();
            tokens = ft_tokenize(t, text, BYTES, (ft_tokenize_options){0});
            CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
            CHECK(n == 1 || kind != 1 || tokens.count < BYTES, "it merges: %d", tokens.count);
            ft_destroy(m);
        }
    free(text);
}

static void damage(const char *name, const char *merges)
{
    ft_model *m = new_model();
    char path[256];
    size_t bytes, step, i;
    unsigned char *file;
    ft_tokenizer_options options = {.merges = merges};
    snprintf(path, sizeof path, "%s%s", folder, name);
    file = ft__read_file(&m->context, path, &bytes);
    step = bytes / 300 + 1;
    options.memory = file;
    for (i = 0; i < bytes; i += step) {
        unsigned char was = file[i];
        options.bytes = i;
        ft_tokenizer_free(ft_tokenizer_load(m, NULL, options));
        ft_clear_error(m);
        options.bytes = bytes;
        file[i] = (unsigned char)(was ^ (1u << next_random() % 8));
        ft_tokenizer_free(ft_tokenizer_load(m, NULL, options));
        CHECK(ft_error(m) == FT_OK || *ft_error_text(m), "an error says what is wrong");
        ft_clear_error(m);
        file[i] = was;
    }
    ft__release(&m->context, file);
    ft_destroy(m);
}

#define HF(part, of_model) "{" part ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]" of_model "}}"

static void test_errors(void)
{
    static const struct { const char *text; ft_status status; const char *says; } wrong[] = {
        {"", FT_FORMAT, "[UNK]"}, {"a\nb\n", FT_FORMAT, "[UNK]"}, {"[]", FT_FORMAT, "no pieces"},
        {"[\"ab\"]", FT_FORMAT, "one character"}, {"{\"a\":0}", FT_INVALID, "merges.txt"},
        {"{\"a\":-1}", FT_FORMAT, "ids"}, {"{\"a\":1000000000}", FT_FORMAT, "ids"},
        {"{\"model\":{\"type\":\"Unigram\"}}", FT_UNSUPPORTED, "Unigram"},
        {"{\"kind\":\"runes\"}", FT_FORMAT, "unknown kind"}, {"[UNK]\n\xff\n", FT_FORMAT, "UTF-8"},
        {"{\"kind\":\"words\",\"pieces\":[\"a\"]}", FT_FORMAT, "damaged"},
        {HF("\"normalizer\":{\"type\":\"Nmt\"}", ""), FT_UNSUPPORTED, "normalizer Nmt"},
        {HF("\"normalizer\":{\"type\":\"NFC\",\"odd\":1}", ""), FT_UNSUPPORTED, "\"odd\""},
        {HF("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\"}",
            ""), FT_UNSUPPORTED, " {2,}"},
        {HF("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Punctuation\"}]}",
            ""), FT_UNSUPPORTED, "pre_tokenizer Punctuation"},
        {HF("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-z]+|.\"},\"behavior\":"
            "\"Isolated\",\"invert\":false}", ""), FT_UNSUPPORTED, "[a-z]+|."},
        {HF("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"'(?:[sdmt]|ll|ve|re)| ?"
            "\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
            "\"behavior\":\"Removed\",\"invert\":false}", ""), FT_UNSUPPORTED, "behavior Removed"},
        {HF("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}", ""),
         FT_UNSUPPORTED, "prepend_scheme last"},
        {HF("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
            "{\"type\":\"Digits\"}]}", ""), FT_UNSUPPORTED, "must be the last"},
        {HF("\"decoder\":{\"type\":\"CTC\"}", ""), FT_UNSUPPORTED, "decoder CTC"},
        {HF("\"post_processor\":{\"type\":\"Odd\"}", ""), FT_UNSUPPORTED, "post_processor Odd"},
        {HF("\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"Odd\"}]}", ""),
         FT_UNSUPPORTED, "post_processor Odd"},
        {HF("\"decoder\":null", ",\"dropout\":0.1"), FT_UNSUPPORTED, "\"dropout\""},
        {HF("\"decoder\":null", ",\"end_of_word_suffix\":\"</w>\""), FT_UNSUPPORTED, "\"end_of_word_suffix\""},
        {HF("\"decoder\":null", ",\"novel\":true"), FT_UNSUPPORTED, "\"novel\""}};
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        ft_model *m = new_model();
        ft_tokenizer *t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){
            .memory = wrong[i].text, .bytes = strlen(wrong[i].text)});
        CHECK(!t && ft_error(m) == wrong[i].status && strstr(ft_error_text(m), wrong[i].says),
              "%s: %s (%s)", wrong[i].text, ft_status_name(ft_error(m)), ft_error_text(m));
        ft_destroy(m);
    }
}

/* Memory that fails at call n, for every n: an error, no leak and no crash. */
static long left, held;

static void *failing_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    if (left-- <= 0) return NULL;
    held += 1;
    return ft__default_allocate(NULL, bytes, alignment);
}

static void failing_release(void *user, void *memory, size_t bytes)
{
    held -= 1;
    ft__default_release(user, memory, bytes);
}

static void test_memory(const char *name)
{
    long n;
    char path[256];
    bool done = false;
    snprintf(path, sizeof path, "%s%s", folder, name);
    for (n = 1; n < 2000 && !done; ++n) {
        ft_desc desc = {.threads = 1, .allocator = {NULL, failing_allocate, failing_release}};
        ft_model *m;
        left = n;
        m = ft_create(desc);
        if (m) {
            ft_tokenizer *t = ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
            ft_set_tokenizer(m, t);
            ft_tokenize(t, "the boats, the letters", 22, (ft_tokenize_options){.special = true});
            ft_detokenize(t, (const int32_t[]){1, 2, 3}, 3, NULL);
            CHECK(ft_error(m) == FT_OK || ft_error(m) == FT_MEMORY, "%s", ft_error_text(m));
            done = ft_error(m) == FT_OK;
        }
        ft_destroy(m);
        CHECK(held == 0, "%s: %ld blocks leaked when call %ld fails", name, held, n);
    }
    CHECK(done, "%s: never enough memory", name);
}

/* A text that is no longer than one before it takes no memory. */
static void test_no_allocation(const char *name)
{
    static const char text[] = "the boats, the letters";
    ft_desc desc = {.threads = 1, .allocator = {NULL, failing_allocate, failing_release}};
    ft_model *m;
    ft_tokenizer *t;
    size_t bytes;
    long before;
    left = 100000;
    m = ft_create(desc);
    t = load(m, name);
    ft_tokenize(t, text, sizeof text - 1, (ft_tokenize_options){0});
    before = left;
    for (bytes = 0; bytes < sizeof text; ++bytes)
        ft_tokenize(t, text, bytes, (ft_tokenize_options){0});
    CHECK(left == before, "%s: %ld allocations for shorter texts", name, before - left);
    ft_destroy(m);
}

/* ---- For test-long ---- */

static int print_ids(const char *path)
{
    ft_model *m = new_model();
    ft_tokenizer *t = ft_tokenizer_load(m, path, (ft_tokenizer_options){0});
    static char line[1 << 16];
    while (!ft_error(m) && fgets(line, sizeof line, stdin)) {
        size_t bytes = strcspn(line, "\n");
        ft_tokens tokens = ft_tokenize(t, line, bytes, (ft_tokenize_options){0});
        int i;
        for (i = 0; i < tokens.count; ++i) printf("%s%d", i ? " " : "", (int)tokens.ids[i]);
        printf("\n");
    }
    if (ft_error(m)) fprintf(stderr, "%s\n", ft_error_text(m));
    return ft_error(m) ? 1 : 0;
}

/* A byte that is not UTF-8 stays itself in small letters too, after a character of two bytes. */
static void test_lower_bytes(void)
{
    static const char json[] = "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xc3\x83\": 0, \"\xc2\xa9\": 1,"
        " \"\xc3\xbf\": 2}, \"merges\": []}, \"normalizer\": {\"type\": \"Lowercase\"}, \"pre_tokenizer\":"
        " {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}, \"decoder\":"
        " {\"type\": \"ByteLevel\"}}";
    ft_model *m = ft_create((ft_desc){0});
    ft_tokenizer *t = ft_tokenizer_load(m, NULL, (ft_tokenizer_options){.memory = json, .bytes = sizeof json - 1});
    ft_tokens ids = ft_tokenize(t, "\xc3\x89\xff", 3, (ft_tokenize_options){0});
    CHECK(ids.count == 3 && ids.ids[0] == 0 && ids.ids[1] == 1 && ids.ids[2] == 2, "%d ids: %s", ids.count,
          ft_error_text(m));
    ft_destroy(m);
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "--ids")) return print_ids(words[2]);
    test_letters();
    test_forms();
    test_compatible();
    test_goldens("vocab.txt");
    test_goldens("wordpiece.json");
    test_goldens("bpe-vocab.json");
    test_goldens("bpe_space_first.json");
    test_pipelines();
    test_special();
    test_words();
    test_scored();
    test_tok512();
    test_any_bytes();
    test_lower_bytes();
    test_megabyte();
    test_errors();
    damage("vocab.txt", NULL);
    damage("wordpiece.json", NULL);
    damage("bpe_space_first.json", NULL);
    damage("bpe-vocab.json", "tests/golden/tokenizers/bpe-merges.txt");
    damage("bpe-merges.txt", NULL);
    damage("llama3.json", NULL);
    damage("llama2.json", NULL);
    damage("metaspace.json", NULL);
    test_memory("vocab.txt");
    test_memory("bpe_space_first.json");
    test_memory("qwen2.json");
    test_memory("llama2.json");
    test_no_allocation("vocab.txt");
    test_no_allocation("qwen2.json");
    test_no_allocation("bpe-vocab.json");
    return check_done("test_tokenizers");
}
