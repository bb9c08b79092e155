#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "graph/plan.h"
#include "graph/calls.h"
#include "graph/forward_backward.h"
#include "graph/decoding.h"
#include "graph/settings.h"
#include "text/tokenizers.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "text/sequences.h"
#include "text/chats.h"
#include "networks/text.h"
#include "training/metrics.h"
#include "training/evaluate.h"

/* =============================================================================================
   [SECTION] training/generate: Predict and generate text
   ============================================================================================= */

/* Puts sequences, ids [rows, count], into the inputs of an evaluation plan; NULL with an error.
   `types`: as in ft__fill_types. */
static ft__plan *ft__begin_tokens(ft_model *m, const int32_t *ids, const int32_t *types, int rows,
                                  int count, const char *call)
{
    ft_node tokens = ft__find_node(m, "tokens");
    ft__node *lengths = ft__lengths_input(m);
    int32_t length = count;
    ft__plan *plan;
    if (!ft__usable(m)) return NULL;
    if (!tokens.id || !m->output.id || !m->tokenizer) {
        ft__fail(&m->context, FT_INVALID, "%s: text needs a model with an input \"tokens\" and a"
                 " tokeniser (ft_set_tokenizer)", call);
        return NULL;
    }
    m->length = count;
    plan = ft__begin(m, rows, false);
    if (!plan) return NULL;
    if (ft__main_input(m, plan, call).id != tokens.id) {
        ft__fail(&m->context, FT_INVALID, "%s: the output depends on an input other than"
                 " \"tokens\"", call);
        return NULL;
    }
    ft__fill_input(m, &m->nodes[tokens.id - 1], ids, rows);
    if (lengths && rows == 1) ft__fill_input(m, lengths, &length, 1);
    ft__fill_types(m, types, rows);
    m->last_run = plan;
    return plan;
}

/* The output of a run of `count` tokens. NULL with an error. */
static const float *ft__run_tokens(ft_model *m, const int32_t *ids, const int32_t *types,
                                   int count, const char *call)
{
    int before = m->length;
    ft__plan *plan = ft__begin_tokens(m, ids, types, 1, count, call);
    if (plan) {
        ft__run_forward(m, plan, 0, plan->step_count, 1, FT__ONLY_OUTPUT);
        ft__check_output(m, plan, 1, call);
    }
    m->length = before;
    return ft__usable(m) ? plan->values[m->output.id - 1] : NULL;
}

/* The logits of the last step of such a run. */
static const float *ft__next_logits(ft_model *m, const int32_t *ids, const int32_t *types,
                                    int count, const char *call)
{
    const float *logits = ft__run_tokens(m, ids, types, count, call);
    const ft__extent size = {1, count};
    const ft__node *output = logits ? &m->nodes[m->output.id - 1] : NULL;
    if (!output) return NULL;
    return logits + ft__node_count_at(output, size)
        - (size_t)output->shape.size[output->shape.rank - 1];
}

/* ---- One text, or one pair ---- */
typedef struct ft__said_text {
    const char *call;       /* the public function */
    const char *text;
    size_t bytes;
    const char *second;     /* of a pair; else NULL */
    size_t second_bytes;
} ft__said_text;

static bool ft__can_read_text(ft_model *m, const ft__said_text *t)
{
    ft__context *c;
    if (!ft__usable(m)) return false;
    c = &m->context;
    if (!t->text) ft__fail(c, FT_INVALID, "%s: the text is NULL", t->call);
    else if (ft__classifies_steps(m))
        ft__fail(c, FT_INVALID, "%s: the model gives a class to each word, not to the text: use"
                 " ft_predict_entities or ft_predict_words", t->call);
    else if (m->output.id && m->nodes[m->output.id - 1].shape.rank == 3)
        ft__fail(c, FT_INVALID, "%s: the model predicts tokens, not classes; use ft_generate to"
                 " continue a text", t->call);
    else if (t->second && !m->pairs)
        ft__fail(c, FT_INVALID, "%s: the model reads single texts, not pairs (ft_set_pairs)",
                 t->call);
    else if (!t->second && m->pairs)
        ft__fail(c, FT_INVALID, "%s: the model reads pairs of texts: use %s", t->call,
                 !strcmp(t->call, "ft_predict_text") ? "ft_predict_pair" : "both texts");
    return ft__ok(c);
}

/* The output for it, of one row; NULL with an error. */
static const float *ft__text_output(ft_model *m, const ft__said_text *t)
{
    ft_pair_tokens tokens = {NULL, NULL, 0};
    const float *logits;
    int whole = 0;
    if (m->tokenizer)
        tokens = ft__tokens_of(m->tokenizer, t->text, t->bytes, t->second, t->second_bytes,
                               ft_max_length(m), &whole);
    if (whole > tokens.count)
        ft__log(&m->context, "the %s has %d tokens: only the first %d%s are read (max_length)",
                t->second ? "pair" : "text", whole, tokens.count,
                t->second ? ", of both texts," : "");
    logits = ft__next_logits(m, tokens.ids, tokens.types, tokens.count, t->call);
    if (logits && m->nodes[m->output.id - 1].shape.rank != 2)
        ft__fail(&m->context, FT_INVALID, "%s: the model predicts tokens, not classes; use"
                 " ft_generate to continue a text", t->call);
    return ft__ok(&m->context) ? logits : NULL;
}

static int ft__predict_text(ft_model *m, const ft__said_text *t, ft_prediction *best, int count)
{
    const float *logits;
    if (!ft__can_read_text(m, t) || !ft__can_predict(m, best, count, t->call)) return 0;
    logits = ft__text_output(m, t);
    return logits ? ft__best_classes(m, logits, best, count) : 0;
}

static ft_status ft__run_text(ft_model *m, const ft__said_text *t, float *output, size_t count)
{
    const float *numbers;
    size_t has;
    if (!ft__can_read_text(m, t) || !ft__given(&m->context, output, "ft_run_text: output"))
        return ft__status_of(m);
    numbers = ft__text_output(m, t);
    if (!numbers) return m->context.status;
    has = (size_t)m->nodes[m->output.id - 1].shape.size[1];
    if (count != has)
        return ft__fail(&m->context, FT_SHAPE, "ft_run_text: the output has %zu numbers, not count"
                        " = %zu", has, count);
    memcpy(output, numbers, count * sizeof *output);
    return m->context.status;
}

/* ---- Generation ---- */
typedef struct ft__writing { /* one text */
    int32_t *ids;           /* the prompt's and those generated */
    int count, fed;         /* of them; that the network has seen */
    int made, most;         /* generated; of them at most */
    float *logits;          /* [classes]: of the next token */
    ft__text text;          /* generated, but not passed to the caller yet */
    bool first;             /* no text so far: a word needs no space before it */
    bool done, stopped;     /* stopped: by the caller */
} ft__writing;

typedef struct ft__generation {
    ft_model *m;
    ft_generate_options o;
    int classes, rows, length;
    int longest;            /* of the prompts */
    int *order;             /* [classes]: by logit, the largest first */
    float *weights;         /* [classes]: not divided by their sum yet */
    ft__writing *texts;     /* [rows] */
    ft__decoding decoding;
    int32_t *ids;           /* of a run */
    int most;               /* steps of a run */
    uint64_t multiply_adds; /* of a step of one text */
    bool recurrent;         /* carries the state from run to run */
} ft__generation;

static bool ft__larger_logit(const void *context, int a, int b)
{
    const float *logits = (const float *)context;
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

/* Draws a token from the softmax of logits / temperature, limited to the top_k largest and to those
   that make up the share top_p (Holtzman et al. 2020). */
static int ft__draw_token(ft__generation *g, int row)
{
    const float *logits = g->texts[row].logits;
    uint64_t key = ft__key(g->o.seed + (uint64_t)row, 0, 0, FT__USE_GENERATE);
    float temperature = g->o.temperature > 0 ? g->o.temperature : 1, draw;
    int count = g->classes, i;
    double sum = 0, kept = 0;
    if (g->o.greedy) return ft__guess(&g->m->context, logits, g->classes);
    ft__sort_order(g->order, g->classes, ft__larger_logit, logits);
    if (g->o.top_k > 0 && g->o.top_k < count) count = g->o.top_k;
    for (i = 0; i < count; ++i) {
        g->weights[i] = ft__exp((logits[g->order[i]] - logits[g->order[0]]) / temperature);
        sum += (double)g->weights[i];
    }
    for (i = 0; i < count && (g->o.top_p <= 0 || kept < (double)g->o.top_p * sum); ++i)
        kept += (double)g->weights[i];
    count = i;
    draw = ft__uniform(key, (uint64_t)g->texts[row].made);
    for (i = 0, sum = 0; i + 1 < count; ++i) {
        sum += (double)g->weights[i];
        if ((double)draw * kept < sum) break;
    }
    return g->order[i];
}

/* The number of bytes that are whole characters: a piece may end inside a character. */
static size_t ft__whole_characters(const char *text, size_t bytes)
{
    size_t back, need;
    for (back = 1; back <= 3 && back <= bytes; ++back) {
        unsigned char lead = (unsigned char)text[bytes - back];
        if ((lead & 0xc0) == 0x80) continue;
        need = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
        return need > back ? bytes - back : bytes;
    }
    return bytes;
}

/* Where the first of the stop strings begins in a text; the text's length if there is none. */
static size_t ft__stop_in(const ft__generation *g, const ft__text *text)
{
    size_t at, bytes;
    int i;
    for (at = 0; at < text->count; ++at)
        for (i = 0; i < g->o.stop_count; ++i) {
            bytes = strlen(g->o.stops[i]);
            if (bytes <= text->count - at && !memcmp(text->letters + at, g->o.stops[i], bytes))
                return at;
        }
    return text->count;
}

/* The number of bytes that can be passed on: behind them a stop string may have begun. */
static size_t ft__before_stop(const ft__generation *g, const char *text, size_t bytes)
{
    size_t at;
    int i;
    for (at = 0; at < bytes; ++at)
        for (i = 0; i < g->o.stop_count; ++i)
            if (bytes - at < strlen(g->o.stops[i])
                && !memcmp(text + at, g->o.stops[i], bytes - at)) return at;
    return bytes;
}

/* Passes a token's text to the caller; at the end (-1) the rest. */
static void ft__say_token(ft__generation *g, int row, int id)
{
    const ft_tokenizer *t = g->m->tokenizer;
    ft__writing *w = &g->texts[row];
    ft_generated token;
    char *letters, next;
    size_t whole;
    bool line = id >= 0 && id == t->end && t->kind == FT_WORDS;
    if (line) ft__text_add_bytes(&w->text, "\n", 1);
    else if (id >= 0) ft__decode_piece(t, id, w->first, &w->text);
    if (id >= 0) w->first = line;
    ft__text_add_bytes(&w->text, "", 0);
    letters = w->text.letters;
    if (!ft__ok(&g->m->context) || !letters || w->stopped) return;
    whole = ft__stop_in(g, &w->text);
    if (whole < w->text.count) w->done = true;
    else if (id >= 0)
        whole = ft__before_stop(g, letters, ft__whole_characters(letters, whole));
    if (id < 0 && whole == 0) return;
    next = letters[whole];
    letters[whole] = 0;
    memset(&token, 0, sizeof token);
    token.prompt = row;
    token.id = id;
    token.text = letters;
    token.bytes = whole;
    if (whole && g->o.piece && !g->o.piece(g->o.piece_user, letters, whole)) w->stopped = true;
    if (g->o.token && !g->o.token(g->o.token_user, &token)) w->stopped = true;
    letters[whole] = next;
    memmove(letters, letters + whole, w->text.count - whole + 1);
    w->text.count = w->done ? 0 : w->text.count - whole; /* what follows a stop string is dropped */
    w->done = w->done || w->stopped;
}

/* Takes a prompt's ids; if it has none, the start or end token, a new line, or the first piece. */
static void ft__read_prompt(ft__generation *g, int row, const char *prompt)
{
    ft__context *c = &g->m->context;
    ft_tokenizer *t = g->m->tokenizer;
    ft__writing *w = &g->texts[row];
    ft_tokenize_options plain = {false, false};
    ft_tokens tokens = {NULL, 0};
    ft__chat chat;
    int32_t start = t->begin >= 0 ? t->begin : t->end >= 0 ? t->end : ft__find_piece(t, "\n");
    int before = g->o.chat ? 0 : t->before_count, i;
    size_t most;
    ft__chat_begin(&chat, t, g->o.chat);
    if (!g->o.chat) tokens = ft_tokenize(t, prompt, strlen(prompt), plain);
    else if (ft__ok(c)) {
        ft__chat_prompt(&chat, prompt);
        tokens.ids = chat.ids.values;
        tokens.count = (int)chat.ids.count;
    }
    most = (size_t)before + (size_t)tokens.count + 1;
    w->text.context = c;
    w->first = tokens.count == 0 || g->o.chat;
    w->ids = (int32_t *)ft__allocate(c, most + (size_t)g->length, sizeof *w->ids);
    w->logits = (float *)ft__allocate(c, (size_t)g->classes, sizeof *w->logits);
    for (i = 0; ft__ok(c) && i < before; ++i) w->ids[w->count++] = t->before[i];
    for (i = 0; ft__ok(c) && i < tokens.count; ++i) w->ids[w->count++] = tokens.ids[i];
    ft__chat_end(&chat);
    if (!ft__ok(c)) return;
    if (w->count == 0) w->ids[w->count++] = start < 0 ? 0 : start;
    if (w->count > g->longest) g->longest = w->count;
    w->most = g->length;
}

/* Runs the tokens of all texts that the network has not seen yet, at most g->most of each. A text
   without any runs along, and what is kept of that is written over later. False: there was none. */
static bool ft__run_texts(ft__generation *g)
{
    ft_model *m = g->m;
    int steps = 0, before = m->length, row, t;
    ft__plan *plan;
    for (row = 0; row < g->rows; ++row) {
        int rest = g->texts[row].done ? 0 : g->texts[row].count - g->texts[row].fed;
        if (rest > steps) steps = rest < g->most ? rest : g->most;
    }
    if (steps == 0) return false;
    for (row = 0; row < g->rows; ++row) {
        const ft__writing *w = &g->texts[row];
        g->decoding.past[row] = w->done ? 0 : w->fed; /* 0: within the table of positions */
        for (t = 0; t < steps; ++t)
            g->ids[row * steps + t] = w->fed + t < w->count && !w->done ? w->ids[w->fed + t] : 0;
    }
    plan = ft__begin_tokens(m, g->ids, NULL, g->rows, steps, "ft_generate");
    if (plan) ft__run_decoding(m, plan, &g->decoding, g->multiply_adds);
    if (plan) ft__check_output(m, plan, g->rows, "ft_generate");
    m->length = before;
    for (row = 0; ft__ok(&m->context) && row < g->rows; ++row) {
        ft__writing *w = &g->texts[row];
        int some = w->count - w->fed < steps ? w->count - w->fed : steps;
        int wide = m->nodes[m->output.id - 1].shape.size[2];
        const float *logits = plan->values[m->output.id - 1] + (size_t)row * (size_t)steps
            * (size_t)wide;
        if (w->done) continue;
        w->fed += some;
        if (some > 0 && w->fed == w->count)
            memcpy(w->logits, logits + (size_t)(some - 1) * (size_t)wide,
                   (size_t)g->classes * sizeof *logits);
    }
    return ft__ok(&m->context);
}

/* Draws the next token of a text; false: it has ended. */
static bool ft__write_token(ft__generation *g, int row)
{
    ft__writing *w = &g->texts[row];
    const ft_tokenizer *t = g->m->tokenizer;
    int id;
    if (w->done) return false;
    id = ft__draw_token(g, row);
    w->done = id == t->end && t->kind != FT_WORDS;
    if (w->done) return false;
    w->ids[w->count++] = id;
    ft__say_token(g, row, id);
    w->made += 1;
    w->done = w->done || w->made == w->most;
    return !w->done;
}

/* All texts at once, with the keys and values of the steps before. */
static void ft__write_together(ft__generation *g)
{
    ft__context *c = &g->m->context;
    size_t values = (size_t)g->m->nodes[g->m->output.id - 1].shape.size[2];
    size_t most = ((size_t)4 << 20) / values / (size_t)g->rows; /* logits of a run: 16 MiB */
    bool more = true;
    int row, i;
    g->most = most > 512 ? 512 : most < 16 ? 16 : (int)most;
    if (g->most > g->longest) g->most = g->longest;
    for (i = 0; i < g->m->node_count; ++i)
        g->multiply_adds += ft__costs_of(g->m, &g->m->nodes[i], ft__one, false).multiply_adds;
    g->ids = (int32_t *)ft__allocate(c, (size_t)g->most * (size_t)g->rows, sizeof *g->ids);
    if (ft__ok(c)) ft__decoding_make(g->m, &g->decoding, g->rows, g->longest + g->length);
    while (ft__ok(c) && more) {
        while (ft__run_texts(g)) {}
        for (row = 0, more = false; ft__ok(c) && row < g->rows; ++row)
            if (ft__write_token(g, row)) more = true;
    }
    for (row = 0; row < g->rows; ++row) ft__say_token(g, row, -1);
    ft__decoding_free(g->m, &g->decoding);
    ft__release(c, g->ids);
}

/* One text: a recurrent network sees each token once, any other the whole text again. */
static void ft__write_alone(ft__generation *g, int row)
{
    ft_model *m = g->m;
    ft__writing *w = &g->texts[row];
    bool more = true;
    ft_reset_state(m, "*");
    while (ft__ok(&m->context) && more) {
        const float *logits = ft__next_logits(m, w->ids + w->fed, NULL, w->count - w->fed,
                                              "ft_generate");
        if (!logits) return;
        memcpy(w->logits, logits, (size_t)g->classes * sizeof *logits);
        if (g->recurrent) w->fed = w->count;
        more = ft__write_token(g, row);
    }
    ft__say_token(g, row, -1);
}

static ft_status ft__check_generate(ft_model *m, const ft_generate_options *o)
{
    ft__context *c = &m->context;
    const ft__node *output = ft__get_node(m, m->output);
    const ft__field_use uses[] = {
        {"temperature", o->temperature != 0, !o->greedy, "random tokens, not greedy"},
        {"top_k", o->top_k != 0, !o->greedy, "random tokens, not greedy"},
        {"top_p", o->top_p != 0, !o->greedy, "random tokens, not greedy"},
        {"prompt", o->prompt != NULL, !o->prompts, "one text, without prompts"},
        {"piece", o->piece != NULL, o->prompt_count < 2, "one text: token is for several"}};
    int i;
    if (ft__check_uses(c, "ft_generate", uses, sizeof uses / sizeof uses[0]) != FT_OK)
        return c->status;
    if (!ft__not_negative(o->temperature) || o->top_k < 0 || o->length < 0
        || !(o->top_p >= 0 && o->top_p <= 1))
        return ft__fail(c, FT_INVALID, "ft_generate: temperature %g, top_k %d, top_p %g, length %d:"
                        " each must be finite and not negative, top_p at most 1",
                        (double)o->temperature, o->top_k, (double)o->top_p, o->length);
    if (o->stop_count < 0 || o->prompt_count < 0 || !o->stops != !o->stop_count
        || !o->prompts != !o->prompt_count)
        return ft__fail(c, FT_INVALID, "ft_generate: %d prompts and %d stops: each list needs its"
                        " number", o->prompt_count, o->stop_count);
    if ((unsigned)o->chat > FT_CHAT_LLAMA2)
        return ft__fail(c, FT_INVALID, "ft_generate: chat is %d; it must be one of"
                        " ft_chat_template", (int)o->chat);
    for (i = 0; i < o->stop_count; ++i)
        if (!o->stops[i] || !*o->stops[i])
            return ft__fail(c, FT_INVALID, "ft_generate: stop %d is empty", i);
    for (i = 0; i < o->prompt_count; ++i)
        if (!ft__given(c, o->prompts[i], "ft_generate: a prompt")) return c->status;
    if (!output || output->shape.rank != 3 || ft__classifies_steps(m))
        return ft__fail(c, FT_INVALID, "ft_generate needs a language model with an output [N, L,"
                        " tokens], and its tokeniser");
    if (!m->tokenizer)
        return ft__fail(c, FT_INVALID, "ft_generate: the model has no tokeniser: load it with"
                        " ft_tokenizer_load and ft_set_tokenizer (--vocabulary FILE)");
    return c->status;
}

/* Makes no text longer than the network's table of positions, and says so. */
static void ft__limit_lengths(ft__generation *g)
{
    int most = ft__most_steps(g->m), row;
    if (most > 0 && g->longest > most)
        ft__fail(&g->m->context, FT_INVALID, "ft_generate: a prompt of %d tokens, but the network"
                 " has %d positions", g->longest, most);
    for (row = 0; most > 0 && row < g->rows; ++row) {
        ft__writing *w = &g->texts[row];
        if (w->count + w->most - 1 <= most) continue; /* the last token is not run */
        w->most = most - w->count + 1;
        ft__log(&g->m->context, "ft_generate: text %d ends after %d tokens: the network has %d"
                " positions", row + 1, w->most, most);
    }
}

static int ft__generate(ft_model *m, ft_generate_options options)
{
    ft__context *c;
    ft__generation g;
    int count = 0, row;
    memset(&g, 0, sizeof g);
    if (!ft__usable(m) || ft__check_generate(m, &options) != FT_OK) return 0;
    c = &m->context;
    g.m = m;
    g.o = options;
    g.length = options.length > 0 ? options.length : 200;
    g.rows = options.prompts ? options.prompt_count : 1;
    g.recurrent = ft__is_recurrent(m);
    g.classes = m->nodes[m->output.id - 1].shape.size[2];
    if (g.classes > m->tokenizer->pieces.count) g.classes = m->tokenizer->pieces.count;
    g.order = (int *)ft__allocate(c, (size_t)g.classes, sizeof *g.order);
    g.weights = (float *)ft__allocate(c, (size_t)g.classes, sizeof *g.weights);
    g.texts = (ft__writing *)ft__allocate(c, (size_t)g.rows, sizeof *g.texts);
    for (row = 0; ft__ok(c) && row < g.rows; ++row)
        ft__read_prompt(&g, row, options.prompts ? options.prompts[row]
                        : options.prompt ? options.prompt : "");
    if (ft__ok(c)) ft__limit_lengths(&g);
    if (ft__ok(c) && !options.no_cache && !g.recurrent && ft__can_decode(m))
        ft__write_together(&g);
    else
        for (row = 0; ft__ok(c) && row < g.rows; ++row) ft__write_alone(&g, row);
    for (row = g.rows - 1; g.texts && row >= 0; --row) {
        count += g.texts[row].made;
        ft__release(c, g.texts[row].text.letters);
        ft__release(c, g.texts[row].logits);
        ft__release(c, g.texts[row].ids);
    }
    ft__release(c, g.texts);
    ft__release(c, g.weights);
    ft__release(c, g.order);
    return ft__ok(c) ? count : 0;
}
