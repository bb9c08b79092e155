#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/sorting.h"
#include "kernels/elementary.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "graph/plan.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "text/tokenizers.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "training/metrics.h"
#include "training/evaluate.h"

/* =============================================================================================
   [SECTION] training/generate: Predict and generate text
   ============================================================================================= */

/* Puts one sequence into the inputs of an evaluation plan; NULL with an error. */
static ft__plan *ft__begin_tokens(ft_model *m, const int32_t *ids, int count, const char *call)
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
    plan = ft__begin(m, 1, false);
    if (!plan) return NULL;
    if (ft__main_input(m, plan, call).id != tokens.id) {
        ft__fail(&m->context, FT_INVALID, "%s: the output depends on an input other than"
                 " \"tokens\"", call);
        return NULL;
    }
    ft__fill_input(m, &m->nodes[tokens.id - 1], ids, 1);
    if (lengths) ft__fill_input(m, lengths, &length, 1);
    m->last_run = plan;
    return plan;
}

/* The output of a run of `count` tokens. NULL with an error. */
static const float *ft__run_tokens(ft_model *m, const int32_t *ids, int count, const char *call)
{
    int before = m->length;
    ft__plan *plan = ft__begin_tokens(m, ids, count, call);
    if (plan) {
        ft__run_forward(m, plan, 0, plan->step_count, 1, FT__ONLY_OUTPUT);
        ft__check_output(m, plan, 1, call);
    }
    m->length = before;
    return ft__usable(m) ? plan->values[m->output.id - 1] : NULL;
}

/* The logits of the last step of such a run. */
static const float *ft__next_logits(ft_model *m, const int32_t *ids, int count, const char *call)
{
    const float *logits = ft__run_tokens(m, ids, count, call);
    const ft__extent size = {1, count};
    const ft__node *output = logits ? &m->nodes[m->output.id - 1] : NULL;
    if (!output) return NULL;
    return logits + ft__node_count_at(output, size)
        - (size_t)output->shape.size[output->shape.rank - 1];
}

/* The tokens of one text as the network reads them: at least one, cut as in ft_texts; *count is how
   many it has. Valid until the tokeniser is used again; {NULL, 0} with an error. */
static ft_tokens ft__text_tokens(ft_model *m, const char *text, size_t bytes, int *count)
{
    ft_tokenize_options special = {true, false};
    ft_tokens tokens = ft_tokenize(m->tokenizer, text, bytes, special);
    if (!ft__ok(&m->context)) return tokens;
    if (tokens.count == 0) { /* an empty text, as in ft_texts */
        ft__ids_add(&m->tokenizer->ids, m->tokenizer->unknown > 0 ? m->tokenizer->unknown : 0);
        tokens.ids = m->tokenizer->ids.values;
        tokens.count = ft__ok(&m->context);
    }
    *count = tokens.count;
    ft__cut_tokens(m->tokenizer, &tokens, ft_max_length(m));
    return tokens;
}

static int ft__predict_text(ft_model *m, const char *text, size_t bytes, ft_prediction *best,
                            int count)
{
    ft_tokens tokens = {NULL, 0};
    const float *logits;
    int has = 0;
    if (!ft__usable(m) || !ft__given(&m->context, text, "ft_predict_text: the text")) return 0;
    if (ft__classifies_steps(m))
        ft__fail(&m->context, FT_INVALID, "ft_predict_text: the model gives a class to each word,"
                 " not to the text: use ft_predict_entities or ft_predict_words");
    else if (m->output.id && m->nodes[m->output.id - 1].shape.rank == 3)
        ft__fail(&m->context, FT_INVALID, "ft_predict_text: the model predicts tokens, not classes;"
                 " use ft_generate to continue a text");
    if (!ft__can_predict(m, best, count, "ft_predict_text")) return 0;
    if (m->tokenizer) tokens = ft__text_tokens(m, text, bytes, &has);
    if (has > tokens.count)
        ft__log(&m->context, "the text has %d tokens: only the first %d are read (max_length)", has,
                tokens.count);
    logits = ft__next_logits(m, tokens.ids, tokens.count, "ft_predict_text");
    if (logits && m->nodes[m->output.id - 1].shape.rank != 2)
        ft__fail(&m->context, FT_INVALID, "ft_predict_text: the model predicts tokens, not classes;"
                 " use ft_generate to continue a text");
    return ft__ok(&m->context) ? ft__best_classes(m, logits, best, count) : 0;
}

/* ---- Generation ---- */
typedef struct ft__generation {
    ft_model *m;
    ft_generate_options o;
    int classes;
    int *order;             /* [classes]: by logit, the largest first */
    float *weights;         /* [classes]: not divided by their sum yet */
    const float *logits;
    ft__text text;          /* generated, but not passed to the caller yet */
    bool first;             /* no text so far: a word needs no space before it */
    bool stopped;
} ft__generation;

static bool ft__larger_logit(const void *context, int a, int b)
{
    const float *logits = (const float *)context;
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

/* Draws a token from the softmax of logits / temperature, limited to the top_k largest and to those
   that make up the share top_p (Holtzman et al. 2020). */
static int ft__draw_token(ft__generation *g, int step)
{
    uint64_t key = ft__key(g->o.seed, 0, 0, FT__USE_GENERATE);
    float temperature = g->o.temperature > 0 ? g->o.temperature : 1, draw;
    int count = g->classes, i;
    double sum = 0, kept = 0;
    if (g->o.greedy) return ft__argmax(g->logits, g->classes);
    ft__sort_order(g->order, g->classes, ft__larger_logit, g->logits);
    if (g->o.top_k > 0 && g->o.top_k < count) count = g->o.top_k;
    for (i = 0; i < count; ++i) {
        g->weights[i] = ft__exp((g->logits[g->order[i]] - g->logits[g->order[0]]) / temperature);
        sum += (double)g->weights[i];
    }
    for (i = 0; i < count && (g->o.top_p <= 0 || kept < (double)g->o.top_p * sum); ++i)
        kept += (double)g->weights[i];
    count = i;
    draw = ft__uniform(key, (uint64_t)step);
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

/* Passes a token's text to the caller; at the end (-1) the rest. */
static void ft__say_token(ft__generation *g, int id)
{
    const ft_tokenizer *t = g->m->tokenizer;
    size_t whole;
    if (id >= 0 && id == t->end && t->kind == FT_WORDS) ft__text_add_bytes(&g->text, "\n", 1);
    else if (id >= 0) ft__decode_piece(t, id, g->first, &g->text);
    if (id >= 0) g->first = id == t->end && t->kind == FT_WORDS;
    if (!ft__ok(&g->m->context) || g->text.count == 0) return;
    whole = id < 0 ? g->text.count : ft__whole_characters(g->text.letters, g->text.count);
    if (whole == 0) return;
    if (g->o.piece && !g->o.piece(g->o.piece_user, g->text.letters, whole)) g->stopped = true;
    memmove(g->text.letters, g->text.letters + whole, g->text.count - whole);
    g->text.count -= whole;
}

/* Runs the prompt; if it is empty, the start or end token, a new line, or the first piece. */
static void ft__read_prompt(ft__generation *g)
{
    ft_tokenizer *t = g->m->tokenizer;
    const char *prompt = g->o.prompt ? g->o.prompt : "";
    ft_tokenize_options plain = {false, false};
    ft_tokens tokens;
    int32_t start;
    ft_reset_state(g->m, "*");
    start = t->begin >= 0 ? t->begin : t->end >= 0 ? t->end : ft__find_piece(t, "\n");
    if (start < 0) start = 0;
    tokens = ft_tokenize(t, prompt, strlen(prompt), plain);
    g->first = tokens.count == 0;
    if (tokens.count == 0) {
        tokens.ids = &start;
        tokens.count = 1;
    }
    if (ft__ok(&g->m->context))
        g->logits = ft__next_logits(g->m, tokens.ids, tokens.count, "ft_generate");
}

static int ft__generate(ft_model *m, ft_generate_options options)
{
    ft__context *c;
    const ft__node *output;
    ft__generation g;
    int count = 0, length = options.length > 0 ? options.length : 200;
    const ft__field_use uses[] = {
        {"temperature", options.temperature != 0, !options.greedy, "random tokens, not greedy"},
        {"top_k", options.top_k != 0, !options.greedy, "random tokens, not greedy"},
        {"top_p", options.top_p != 0, !options.greedy, "random tokens, not greedy"}};
    memset(&g, 0, sizeof g);
    if (!ft__usable(m)) return 0;
    c = &m->context;
    output = ft__get_node(m, m->output);
    if (ft__check_uses(c, "ft_generate", uses, 3) != FT_OK) return 0;
    if (!ft__not_negative(options.temperature) || options.top_k < 0 || options.length < 0
        || !(options.top_p >= 0 && options.top_p <= 1)) {
        ft__fail(c, FT_INVALID, "ft_generate: temperature %g, top_k %d, top_p %g, length %d: each"
                 " must be finite and not negative, top_p at most 1", (double)options.temperature,
                 options.top_k, (double)options.top_p, options.length);
        return 0;
    }
    if (!m->tokenizer || !output || output->shape.rank != 3 || ft__classifies_steps(m)) {
        ft__fail(c, FT_INVALID, "ft_generate needs a language model with an output [N, L, tokens],"
                 " and its tokeniser");
        return 0;
    }
    g.m = m;
    g.o = options;
    g.text.context = c;
    g.classes = output->shape.size[2];
    if (g.classes > m->tokenizer->pieces.count) g.classes = m->tokenizer->pieces.count;
    g.order = (int *)ft__allocate(c, (size_t)g.classes, sizeof *g.order);
    g.weights = (float *)ft__allocate(c, (size_t)g.classes, sizeof *g.weights);
    if (ft__ok(c)) ft__read_prompt(&g);
    for (; ft__ok(c) && g.logits && count < length && !g.stopped; ++count) {
        int32_t id = ft__draw_token(&g, count);
        if (id == m->tokenizer->end && m->tokenizer->kind != FT_WORDS) break;
        ft__say_token(&g, id);
        if (count + 1 < length) g.logits = ft__next_logits(m, &id, 1, "ft_generate");
    }
    ft__say_token(&g, -1);
    ft__release(c, g.text.letters);
    ft__release(c, g.weights);
    ft__release(c, g.order);
    return ft__ok(c) ? count : 0;
}
