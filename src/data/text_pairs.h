#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/folders.h"
#include "graph/settings.h"
#include "text/tokenizers.h"
#include "text/tokenizing.h"
#include "text/sequences.h"
#include "data/sources.h"
#include "data/tables.h"

/* =============================================================================================
   [SECTION] data/text_pairs: Pairs of texts for text vectors
   Two text columns of a table, for FT_TASK_EMBEDDINGS: pairs that mean the same, or pairs with a
   number that says how much they do. get() fills "tokens" and "lengths" of the first text,
   "tokens_b" and "lengths_b" of the second, which ft_pair_loss reads, and "scores": the numbers,
   from 0 for the least to 1 for the largest.
   ============================================================================================= */
typedef struct ft__text_pairs {
    ft__context *context;
    ft__text letters;       /* first and second text of each pair, a 0 after each */
    ft__ids starts;         /* [2 * count]: where each begins in letters */
    ft__tokenized tokens;   /* of all texts: text `side` of pair i is number 2 i + side */
    double *scores;         /* [count]: the numbers of the pairs; NULL: none */
    double least, most;     /* of these numbers */
    int count, capacity;
} ft__text_pairs;

static const char *ft__pair_text(const ft__text_pairs *p, int index, int side)
{
    return p->letters.letters + p->starts.values[2 * index + side];
}

static int ft__pairs_length(void *user, int index)
{
    const ft__text_pairs *p = (const ft__text_pairs *)user;
    int a = ft__tokenized_length(&p->tokens, 2 * index);
    int b = ft__tokenized_length(&p->tokens, 2 * index + 1);
    return a > b ? a : b;
}

static const char *ft__pairs_name(void *user, int index)
{
    return ft__pair_text((const ft__text_pairs *)user, index, 0);
}

/* The number of a pair, from 0 for the least to 1 for the largest of the data: what the cosine
   shall be. */
static float ft__pair_target(const ft__text_pairs *p, int index)
{
    double spread = p->most - p->least;
    return spread > 0 ? (float)((p->scores[index] - p->least) / spread) : 1;
}

static bool ft__pairs_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__text_pairs *p = (const ft__text_pairs *)user;
    int s;
    (void)view;
    for (s = 0; s < slot_count; ++s) {
        if (p->scores && slots[s].type == FT_F32 && !strcmp(slots[s].name, "scores"))
            *(float *)slots[s].values = ft__pair_target(p, index);
        ft__tokenized_fill(&p->tokens, 2 * index, "tokens", "lengths", &slots[s]);
        ft__tokenized_fill(&p->tokens, 2 * index + 1, "tokens_b", "lengths_b", &slots[s]);
    }
    return true;
}

static bool ft__pairs_pair(void *user, int index, const char *texts[2], double *score)
{
    const ft__text_pairs *p = (const ft__text_pairs *)user;
    texts[0] = ft__pair_text(p, index, 0);
    texts[1] = ft__pair_text(p, index, 1);
    if (p->scores) *score = p->scores[index];
    return p->scores != NULL;
}

static void ft__pairs_release(void *user)
{
    ft__text_pairs *p = (ft__text_pairs *)user;
    ft__context *c = p->context;
    ft__release(c, p->scores);
    ft__tokenized_free(c, &p->tokens);
    ft__release(c, p->starts.values);
    ft__release(c, p->letters.letters);
    ft__release(c, p);
}

/* The number in a field; an error that names the line if it is none. */
static double ft__pair_score(const ft__table *t, const char *field)
{
    double number = 0;
    if (!ft__read_number_text(field, &number))
        ft__fail(t->context, FT_FORMAT, "%s: line %d: the label \"%.60s\" is not a number: for"
                 " embeddings the label column says how similar the texts are", t->path, t->line,
                 field);
    return number;
}

static void ft__pairs_add(ft__text_pairs *p, const ft__table *t, double score)
{
    ft__context *c = p->context;
    int side;
    if (p->count == p->capacity) {
        int capacity = 2 * p->capacity + 256;
        double *scores = (double *)ft__grow(c, p->scores, (size_t)p->count, (size_t)capacity,
                                            sizeof *scores);
        if (!scores) return;
        p->scores = scores;
        p->capacity = capacity;
    }
    for (side = 0; side < 2; ++side) {
        const char *text = ft__field_text(t, t->text[side]);
        if (p->letters.count > INT_MAX / 2)
            ft__fail(c, FT_UNSUPPORTED, "%s: more than %d bytes of pairs", t->path, INT_MAX / 2);
        ft__ids_add(&p->starts, (int)p->letters.count);
        ft__text_add_bytes(&p->letters, text, strlen(text) + 1);
    }
    if (p->count == 0 || score < p->least) p->least = score;
    if (p->count == 0 || score > p->most) p->most = score;
    p->scores[p->count++] = score;
}

/* Reads the table; of pairs with numbers only those of at least options.minimum_score, if it is
   set. */
static void ft__pairs_read(ft__text_pairs *p, const char *path, const char *content, size_t bytes,
                           const ft_text_options *o)
{
    ft__context *c = p->context;
    const char *text, *label;
    int records = 0;
    ft__table t;
    if (ft__table_open(&t, c, path, content, bytes, o) && t.texts != 2)
        ft__fail(c, FT_INVALID, "%s: embeddings are learnt from pairs: name the columns of both"
                 " texts in text_column (--text-column A,B)", path);
    while (ft__ok(c) && ft__table_next(&t, &text, &label)) {
        double score = o->label_column ? ft__pair_score(&t, label) : 0;
        records += 1;
        if (o->minimum_score != 0 && !(score >= (double)o->minimum_score)) continue;
        ft__pairs_add(p, &t, score);
    }
    if (ft__ok(c) && p->count == 0) ft__fail(c, FT_FORMAT, "%s: has no pairs", path);
    if (ft__ok(c) && o->minimum_score != 0)
        ft__log(c, "%s: embeddings: %d of %d pairs, whose number is at least %g", path, p->count,
                records, (double)o->minimum_score);
    else if (ft__ok(c) && o->label_column)
        ft__log(c, "%s: embeddings: %d pairs with numbers from %g to %g", path, p->count, p->least,
                p->most);
    else if (ft__ok(c)) ft__log(c, "%s: embeddings: %d pairs that mean the same", path, p->count);
    ft__table_close(&t);
    if (o->label_column && o->minimum_score == 0) return;
    ft__release(c, p->scores);
    p->scores = NULL;
}

static void ft__pairs_tokenize(ft__text_pairs *p, ft_model *m, const char *path)
{
    ft__context *c = p->context;
    int i, cut = 0;
    ft__tokenized_begin(c, &p->tokens, 2 * p->count);
    for (i = 0; ft__ok(c) && i < 2 * p->count; ++i)
        cut += ft__tokenized_add(&p->tokens, i, m->tokenizer, ft__pair_text(p, i / 2, i % 2),
                                 ft_max_length(m));
    if (cut && ft__ok(c))
        ft__log(c, "%s: %d of the texts are longer than %d tokens (max_length): their ends are cut"
                " off", path, cut, ft_max_length(m));
}

static ft_status ft__pairs_check(ft_model *m, const char *path, const ft_text_options *o)
{
    ft__context *c = &m->context;
    const ft_vocabulary_options *v = &o->vocabulary;
    const char *classes = "classes, which embeddings do not have";
    const ft__field_use uses[] = {
        {"minimum_score", o->minimum_score != 0, o->label_column != NULL, "label_column"},
        {"per_class", o->per_class != 0, false, classes},
        {"match_classes", o->match_classes, false, classes},
        {"classes_of", o->classes_of != NULL, false, classes},
        {"shuffle", o->shuffle, false, "single texts"},
        {"subsample", o->subsample != 0, false, "single texts"},
        {"vocabulary", v->minimum_count || v->most || v->cased || v->spaces_only, false,
         "a network whose tokeniser is built from the texts"}};
    if (!o->memory && ft__is_folder(c, path))
        return ft__fail(c, FT_INVALID, "%s: embeddings are learnt from a table with two text"
                        " columns, not from a folder", path);
    if (o->tokenizer && o->tokenizer->model != m)
        return ft__fail(c, FT_INVALID, "the tokeniser belongs to another model: load it with this"
                        " model");
    if (!o->tokenizer && !m->tokenizer)
        return ft__fail(c, FT_INVALID, "%s: embeddings need a model with a tokeniser"
                        " (ft_set_tokenizer)", path);
    return ft__check_uses(c, path, uses, sizeof uses / sizeof uses[0]);
}

/* ft_texts for FT_TASK_EMBEDDINGS. */
static ft_data *ft__text_pairs_open(ft_model *m, const char *path, ft_text_options options)
{
    ft__context *c = &m->context;
    unsigned char *content = NULL;
    ft__text_pairs *p;
    ft_source source;
    ft_data *data = NULL;
    size_t bytes = options.bytes;
    if (ft__pairs_check(m, path, &options) != FT_OK) return NULL;
    p = (ft__text_pairs *)ft__allocate(c, 1, sizeof *p);
    if (!p) return NULL;
    p->context = p->letters.context = p->starts.context = c;
    options.unlabelled = !options.label_column;
    if (!options.memory) content = ft__read_file(c, path, &bytes);
    if (ft__ok(c))
        ft__pairs_read(p, path, options.memory ? (const char *)options.memory
                                               : (const char *)content, bytes, &options);
    ft__release(c, content);
    if (options.tokenizer && ft__ok(c)) ft_set_tokenizer(m, options.tokenizer);
    if (options.longest) ft_set_max_length(m, options.longest);
    if (ft__ok(c)) ft__pairs_tokenize(p, m, path);
    memset(&source, 0, sizeof source);
    source.user = p;
    source.count = p->count;
    source.get = ft__pairs_get;
    source.name = ft__pairs_name;
    source.length = ft__pairs_length;
    source.release = ft__pairs_release;
    if (ft__ok(c)) data = ft_data_source(m, source);
    if (!data) {
        ft__pairs_release(p);
        return NULL;
    }
    data->features.samples = "pairs";
    data->fills = "tokens,lengths,tokens_b,lengths_b,scores";
    data->pieces = ft_tokenizer_count(m->tokenizer);
    data->task = FT_TASK_EMBEDDINGS;
    data->features.pair = ft__pairs_pair;
    data->features.has_views = ft__no_views;
    return data;
}
