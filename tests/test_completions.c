/* test_completions.c - prompts with completions, and chats: the tokens, and which of them are
   learnt, are those of transformers' apply_chat_template (goldens by
   tests/golden/make_tokenizers.py); the piece that ends an answer is learnt; errors name the line. */
#include "check.h"

#include "internals.h"

static const char folder[] = "tests/golden/tokenizers/";
static char said[4096];

static void keep_log(void *user, const char *text)
{
    (void)user;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

static ft_model *new_model(const char *tokenizer)
{
    ft_desc desc = {.threads = 1, .log = keep_log, .seed = 3};
    ft_model *m = ft_create(desc);
    char path[256];
    said[0] = 0;
    snprintf(path, sizeof path, "%s%s", folder, tokenizer);
    ft_set_tokenizer(m, ft_tokenizer_load(m, path, (ft_tokenizer_options){0}));
    CHECK(ft_error(m) == FT_OK, "%s: %s", tokenizer, ft_error_text(m));
    return m;
}

static ft_data *read_text(ft_model *m, const char *text, ft_completion_options o)
{
    o.memory = text;
    o.bytes = strlen(text);
    return ft_completions(m, NULL, o);
}

enum { ROOM = 400 };

/* The tokens and labels of a sample; returns its length. */
static int sample_of(ft_data *data, int index, int32_t *tokens, int32_t *labels)
{
    int32_t length = -1;
    ft_slot slots[3];
    memset(slots, 0, sizeof slots);
    slots[0].name = "tokens";
    slots[1].name = "labels";
    slots[2].name = "lengths";
    slots[0].type = slots[1].type = slots[2].type = FT_I32;
    slots[0].shape.rank = slots[1].shape.rank = 1;
    slots[0].shape.size[0] = slots[1].shape.size[0] = ROOM;
    slots[0].values = tokens;
    slots[1].values = labels;
    slots[2].values = &length;
    CHECK(data->source.get(data->source.user, index, 0, slots, 3), "sample %d", index);
    CHECK(length == slots[0].length && length == slots[1].length
          && length == data->source.length(data->source.user, index), "one length: %d", (int)length);
    return (int)length;
}

static int number_at(const ft__json *json, int list, int index)
{
    int64_t number = -1;
    ft__json_int(json, ft__json_element(json, list, index), &number);
    return (int)number;
}

static void chat_case(const ft__json *json, int one)
{
    const char *tokenizer = ft__json_string(json, ft__json_member(json, one, "tokenizer"));
    const char *line = ft__json_string(json, ft__json_member(json, one, "line"));
    int ids = ft__json_member(json, one, "ids"), learnt = ft__json_member(json, one, "learnt");
    int count = ft__json_count(json, ids), i, round;
    int32_t tokens[ROOM], labels[ROOM];
    bool llama2 = !strcmp(tokenizer, "llama2.json");
    for (round = llama2; round < 2; ++round) { /* the template that the pieces show, and a named one */
        ft_model *m = new_model(tokenizer);
        ft_completion_options o = {.chat = round == 0 ? FT_CHAT_AUTO : llama2 ? FT_CHAT_LLAMA2
            : !strcmp(tokenizer, "qwen2.json") ? FT_CHAT_ML : FT_CHAT_LLAMA3};
        ft_data *data = read_text(m, line, o);
        CHECK(data && ft_data_count(data) == 1, "%s: %s", tokenizer, ft_error_text(m));
        if (!data) return;
        CHECK(sample_of(data, 0, tokens, labels) == count - 1, "%s: %d tokens", tokenizer, count);
        for (i = 0; i < count - 1; ++i) {
            int next = number_at(json, learnt, i + 1) ? number_at(json, ids, i + 1) : -1;
            CHECK(tokens[i] == number_at(json, ids, i), "%s: token %d of %s", tokenizer, i, line);
            CHECK(labels[i] == next, "%s: label %d of %s is %d, wanted %d", tokenizer, i, line,
                  (int)labels[i], next);
        }
        CHECK(tokens[count] == 0 && labels[count] == -1, "padded");
        CHECK((strstr(said, "template") != NULL) == (round == 0), "the log says which: %s", said);
        ft_destroy(m);
    }
}

/* The tokens before an answer, when it is generated, are those before it in training. */
static void test_prompts(void)
{
    static const struct { const char *tokenizer; ft_chat_template kind; } all[] = {
        {"qwen2.json", FT_CHAT_ML}, {"llama3.json", FT_CHAT_LLAMA3}, {"llama2.json", FT_CHAT_LLAMA2}};
    int32_t tokens[ROOM], labels[ROOM];
    int k, i, count;
    for (k = 0; k < 3; ++k) {
        ft_model *m = new_model(all[k].tokenizer);
        ft_data *data = read_text(m, "{\"prompt\":\"The boats? \",\"completion\":\"They came in.\"}",
                                  (ft_completion_options){.chat = all[k].kind});
        ft__chat chat;
        CHECK(data != NULL, "%s", ft_error_text(m));
        sample_of(data, 0, tokens, labels);
        for (count = 0; labels[count] < 0; ++count) {}
        ft__chat_begin(&chat, ft_get_tokenizer(m), all[k].kind);
        ft__chat_prompt(&chat, "The boats? ");
        CHECK((int)chat.ids.count == count + 1, "%s: %zu tokens, %d in training", all[k].tokenizer,
              chat.ids.count, count + 1);
        for (i = 0; i <= count && i < (int)chat.ids.count; ++i)
            CHECK(chat.ids.values[i] == tokens[i], "%s: token %d", all[k].tokenizer, i);
        ft__chat_end(&chat);
        ft_destroy(m);
    }
}

static void test_chats(void)
{
    ft_model *m = ft_create((ft_desc){.threads = 1});
    size_t bytes;
    char path[256];
    unsigned char *content;
    ft__json *json;
    int i, seen = 0;
    snprintf(path, sizeof path, "%schats.json", folder);
    content = ft__read_file(&m->context, path, &bytes);
    json = content ? ft__json_parse(&m->context, (const char *)content, bytes) : NULL;
    CHECK(json != NULL, "%s", ft_error_text(m));
    for (i = 1; json && i < json->values[0].next; i = json->values[i].next, ++seen)
        chat_case(json, i);
    CHECK(seen == 9, "%d chats", seen);
    ft__json_free(&m->context, json);
    ft__release(&m->context, content);
    ft_destroy(m);
}

/* A prompt and its completion: what is learnt begins where the completion does, and ends with the
   end piece, which is learnt too. The prompt's tokens are those that it has alone. */
static void plain_case(const char *tokenizer, const char *prompt, const char *completion,
                       const char *stop)
{
    char line[512];
    ft_model *m = new_model(tokenizer);
    ft_tokenizer *t = ft_get_tokenizer(m);
    ft_data *data;
    ft_tokens alone;
    int32_t tokens[ROOM], labels[ROOM], ids[ROOM];
    int length, before, i, end = ft_tokenizer_find(t, stop);
    snprintf(line, sizeof line, "{\"prompt\":\"%s\",\"completion\":\"%s\"}", prompt, completion);
    data = read_text(m, line, (ft_completion_options){.stop = stop});
    CHECK(data != NULL, "%s", ft_error_text(m));
    if (!data) return;
    length = sample_of(data, 0, tokens, labels);
    alone = ft_tokenize(t, prompt, strlen(prompt), (ft_tokenize_options){0});
    before = t->before_count;
    for (i = 0; i < alone.count; ++i)
        CHECK(tokens[before + i] == alone.ids[i], "%s: token %d of the prompt %s", tokenizer, i, prompt);
    before += alone.count;
    CHECK(before > 0 && length >= before, "%s: %d tokens, %d of the prompt", tokenizer, length, before);
    for (i = 0; i < length; ++i)
        CHECK((labels[i] >= 0) == (i >= before - 1), "%s: label %d is %d", tokenizer, i, (int)labels[i]);
    CHECK(labels[length - 1] == end && end >= 0, "the end piece is learnt: %d, not %d",
          (int)labels[length - 1], end);
    for (i = before - 1; i + 1 < length; ++i)
        CHECK(labels[i] == tokens[i + 1], "a label is the next token");
    memcpy(ids, tokens, sizeof ids);
    ids[length] = labels[length - 1];
    snprintf(line, sizeof line, "%s%s", prompt, completion);
    CHECK(!strcmp(ft_detokenize(t, ids, length + 1, NULL), line), "%s: the text is %s", tokenizer,
          ft_detokenize(t, ids, length + 1, NULL));
    CHECK(t->end == end, "generation ends there");
    ft_destroy(m);
}

static void test_plain(void)
{
    static const char *const tokenizers[] = {"qwen2.json", "smollm.json", "llama3.json"};
    size_t i;
    for (i = 0; i < 3; ++i) {
        const char *stop = i == 2 ? "<|end_of_text|>" : "<|endoftext|>";
        plain_case(tokenizers[i], "The keeper", " counted the boats.", stop);
        plain_case(tokenizers[i], "The keep", "er counted", stop); /* a piece would lie across */
        plain_case(tokenizers[i], "What? ", "the letters <|im_end|> x", stop);
        plain_case(tokenizers[i], "a", "", stop);
    }
    plain_case("llama2.json", "The keeper", " counted the boats.", "</s>");
    plain_case("bpe-vocab.json", "The", " boat", "<|endoftext|>");
}

static void test_cut_and_errors(void)
{
    static const struct { const char *text; ft_chat_template chat; ft_status status; const char *says; }
    wrong[] = {
        {"", FT_CHAT_AUTO, FT_FORMAT, "no completions"},
        {"\n{\"prompt\":\"a\"}", FT_CHAT_AUTO, FT_FORMAT, "line 2: \"completion\""},
        {"{\"prompt\":\"a\",\"completion\":3}", FT_CHAT_AUTO, FT_FORMAT, "line 1: \"completion\""},
        {"{\"prompt\":\"a\",\"completion\":\"b\"}\n[1]", FT_CHAT_AUTO, FT_FORMAT, "line 2"},
        {"{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\"", FT_CHAT_AUTO, FT_FORMAT, "line 2 is not JSON"},
        {"{\"messages\":[]}", FT_CHAT_AUTO, FT_FORMAT, "\"messages\" must be"},
        {"{\"messages\":[{\"role\":\"user\"}]}", FT_CHAT_AUTO, FT_FORMAT, "\"content\" must be"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n{\"prompt\":\"a\",\"completion\":\"b\"}",
         FT_CHAT_AUTO, FT_FORMAT, "line 2: prompts and messages"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", FT_CHAT_LLAMA3, FT_INVALID,
         "<|begin_of_text|>"}};
    static const char turns[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"user\",\"content\":\"a\"}]}";
    ft_model *m;
    ft_data *data;
    int32_t tokens[ROOM], labels[ROOM];
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
        m = new_model("qwen2.json");
        data = read_text(m, wrong[i].text, (ft_completion_options){.chat = wrong[i].chat});
        CHECK(!data && ft_error(m) == wrong[i].status && strstr(ft_error_text(m), wrong[i].says),
              "%s: %s", wrong[i].text, ft_error_text(m));
        ft_destroy(m);
    }
    m = new_model("llama2.json");
    CHECK(!read_text(m, turns, (ft_completion_options){.chat = FT_CHAT_LLAMA2})
          && strstr(ft_error_text(m), "take turns"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model("smollm.json");
    CHECK(!read_text(m, "{\"prompt\":\"a\",\"completion\":\"b\"}", (ft_completion_options){
          .stop = "<|nothing|>"}) && strstr(ft_error_text(m), "<|nothing|>"), "%s", ft_error_text(m));
    ft_destroy(m);
    m = new_model("bpe-vocab.json");
    CHECK(!read_text(m, turns, (ft_completion_options){0}) && strstr(ft_error_text(m), "chat"), "%s",
          ft_error_text(m));
    ft_destroy(m);
    m = new_model("smollm.json");
    data = read_text(m, "{\"prompt\":\"a b\",\"completion\":\" c d e f\"}\r\n\r\n"
                     "{\"prompt\":\"the boats the letters\",\"completion\":\" c\"}\n",
                     (ft_completion_options){.longest = 3});
    CHECK(data && ft_data_count(data) == 2 && sample_of(data, 0, tokens, labels) == 3
          && labels[2] >= 0 && strstr(said, "2 of the completions are longer than 3"), "%s%s", said,
          ft_error_text(m));
    CHECK(strstr(said, "1 of the completions have nothing to learn"), "%s", said);
    ft_destroy(m);
}

/* The most probable tokens after a prompt, each found from all before it, up to the end piece. */
static void answer_of(ft_model *m, const char *prompt, char *answer, size_t room)
{
    ft_tokenizer *t = ft_get_tokenizer(m);
    ft_tokens tokens = ft_tokenize(t, prompt, strlen(prompt), (ft_tokenize_options){0});
    int32_t ids[64];
    int count = tokens.count, before = count, best = -1, i;
    memcpy(ids, tokens.ids, (size_t)count * sizeof *ids);
    while (best != t->end && count < 40) {
        const float *logits = ft__next_logits(m, ids, NULL, count, "test");
        for (i = best = 0; logits && i < ft_tokenizer_count(t); ++i)
            if (logits[i] > logits[best]) best = i;
        ids[count++] = best;
    }
    CHECK(best == t->end, "%s: it stops by itself", prompt);
    snprintf(answer, room, "%s", ft_detokenize(t, ids + before, count - before, NULL));
}

/* A small Llama learns two answers, gives them, and stops by itself. */
static void test_training(void)
{
    static const char text[] = "{\"prompt\":\"boats\",\"completion\":\" came in\"}\n"
        "{\"prompt\":\"letters\",\"completion\":\" went\"}\n";
    ft_model *m = new_model("smollm.json");
    ft_data *data = read_text(m, text, (ft_completion_options){0});
    ft_network_options network = {.hidden = 32, .layers = 1, .heads = 2, .feed_forward = 64,
                                  .words = ft_tokenizer_count(ft_get_tokenizer(m))};
    ft_fit_options fit = {.epochs = 60, .batch_size = 2, .optimizer = {.learning_rate = 0.01f}};
    ft_fit_result result;
    int i;
    ft_network(m, "llama", network);
    result = ft_fit(m, data, fit);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(result.loss < 0.05, "loss %g", result.loss);
    for (i = 0; i < 2; ++i) {
        char answer[256];
        answer_of(m, i ? "letters" : "boats", answer, sizeof answer);
        CHECK(!strcmp(answer, i ? " went" : " came in"), "%s", answer);
    }
    ft_destroy(m);
}

static void test_chatterbot(void)
{
    const char *data_folder = getenv("FINETUNE_DATA");
    char path[512];
    ft_model *m;
    ft_data *data;
    FILE *file;
    snprintf(path, sizeof path, "%s/text/chatterbot/pairs.jsonl",
             data_folder ? data_folder : "../shared/data");
    file = fopen(path, "rb");
    if (!file) {
        SKIP("chatterbot is not there");
        return;
    }
    fclose(file);
    m = new_model("qwen2.json");
    data = ft_completions(m, path, (ft_completion_options){.chat = FT_CHAT_ML});
    CHECK(data && ft_data_count(data) == 2393, "%s", ft_error_text(m));
    CHECK(strstr(said, "2393 completions"), "%s", said);
    ft_destroy(m);
}

int main(void)
{
    test_chats();
    test_prompts();
    test_plain();
    test_cut_and_errors();
    test_training();
    test_chatterbot();
    return check_done("test_completions");
}
