#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "data/sources.h"

/* =============================================================================================
   [SECTION] training/bag_of_words: A bag of words, the score that a network must beat
   Logistic regression on which words a text has, whatever their order: on small sets a network
   that reads the words in order is often no better. A text is a row of TF-IDF weights, count * idf,
   idf = ln((1 + texts) / (1 + texts with the word)) + 1, divided by its length (scikit-learn's
   TfidfTransformer). The weights W and biases b minimise the sum over the training texts of
   -log softmax(W x + b)[label], plus |W|^2 / 2 (its LogisticRegression with C = 1; of two classes
   W is one row, for the second). The words are the pieces of the data's tokeniser.
   ============================================================================================= */
typedef struct ft__bag {
    int texts, words, classes;
    size_t *start;          /* [texts + 1]: where a text's words begin */
    int *word;              /* of each text each word once */
    float *weight;          /* first the count, then TF-IDF */
    int *label;             /* [texts]; -1: not to be counted */
    int *held;              /* [texts]: 1: not trained on */
} ft__bag;

/* Rows of W and b: of two classes one, the other's logit is 0. */
static int ft__bag_outputs(const ft__bag *bag) { return bag->classes > 2 ? bag->classes : 1; }

/* Numbers of W [outputs, words] and b [outputs]. */
static size_t ft__bag_numbers(const ft__bag *bag)
{
    return (size_t)ft__bag_outputs(bag) * ((size_t)bag->words + 1);
}

static bool ft__bag_trains(const ft__bag *bag, int text)
{
    return bag->label[text] >= 0 && !bag->held[text];
}

/* Counts become TF-IDF weights, with the frequencies of the training texts. `idf`: [words] */
static void ft__bag_weigh(ft__bag *bag, double *idf)
{
    int texts = 0, i;
    size_t at;
    memset(idf, 0, (size_t)bag->words * sizeof *idf);
    for (i = 0; i < bag->texts; ++i) {
        texts += ft__bag_trains(bag, i);
        for (at = bag->start[i]; ft__bag_trains(bag, i) && at < bag->start[i + 1]; ++at)
            idf[bag->word[at]] += 1;
    }
    for (i = 0; i < bag->words; ++i) idf[i] = log((1.0 + texts) / (1 + idf[i])) + 1;
    for (i = 0; i < bag->texts; ++i) {
        double squares = 0;
        for (at = bag->start[i]; at < bag->start[i + 1]; ++at) {
            double value = (double)bag->weight[at] * idf[bag->word[at]];
            bag->weight[at] = (float)value;
            squares += value * value;
        }
        for (at = bag->start[i]; at < bag->start[i + 1]; ++at)
            bag->weight[at] = (float)((double)bag->weight[at] / sqrt(squares));
    }
}

/* The logits of a text, W x + b. */
static void ft__bag_logits(const ft__bag *bag, const double *w, int text, double *logits)
{
    int outputs = ft__bag_outputs(bag), o;
    const double *bias = w + (size_t)outputs * (size_t)bag->words;
    for (o = 0; o < outputs; ++o) {
        const double *row = w + (size_t)o * (size_t)bag->words;
        size_t at;
        logits[o] = bias[o];
        for (at = bag->start[text]; at < bag->start[text + 1]; ++at)
            logits[o] += row[bag->word[at]] * (double)bag->weight[at];
    }
}

/* A text's loss; its logits become those of the gradient, probability - (1 for the label). */
static double ft__bag_text_loss(const ft__bag *bag, int label, double *logits)
{
    int outputs = ft__bag_outputs(bag), first = bag->classes - outputs, o;
    double most = first ? 0 : logits[0], sum, right = label >= first ? logits[label - first] : 0;
    for (o = 0; o < outputs; ++o)
        if (logits[o] > most) most = logits[o];
    sum = first ? exp(-most) : 0;
    for (o = 0; o < outputs; ++o) sum += exp(logits[o] - most);
    for (o = 0; o < outputs; ++o)
        logits[o] = exp(logits[o] - most) / sum - (o + first == label);
    return most + log(sum) - right;
}

/* What is minimised, and its gradient. `logits`: [classes] */
static double ft__bag_loss(const ft__bag *bag, const double *w, double *gradient, double *logits)
{
    int outputs = ft__bag_outputs(bag), i, o;
    size_t weights = (size_t)outputs * (size_t)bag->words, k;
    double loss = 0;
    for (k = 0; k < weights; ++k) loss += 0.5 * w[k] * w[k];
    memcpy(gradient, w, weights * sizeof *gradient);
    memset(gradient + weights, 0, (size_t)outputs * sizeof *gradient);
    for (i = 0; i < bag->texts; ++i) {
        if (!ft__bag_trains(bag, i)) continue;
        ft__bag_logits(bag, w, i, logits);
        loss += ft__bag_text_loss(bag, bag->label[i], logits);
        for (o = 0; o < outputs; ++o) {
            double *row = gradient + (size_t)o * (size_t)bag->words;
            for (k = bag->start[i]; k < bag->start[i + 1]; ++k)
                row[bag->word[k]] += logits[o] * (double)bag->weight[k];
            gradient[weights + (size_t)o] += logits[o];
        }
    }
    return loss;
}

/* ---- L-BFGS (Nocedal 1980) with a step that is halved until the loss falls (Armijo) ---- */
enum { FT__BAG_PAST = 6, FT__BAG_STEPS = 300 };

typedef struct ft__bag_search {
    size_t numbers;
    double *w, *gradient, *next, *next_gradient, *way; /* [numbers] each */
    double *moves, *turns;  /* [FT__BAG_PAST, numbers]: of w, of the gradient, in the last steps */
    double *logits;         /* [classes] */
    double scale[FT__BAG_PAST]; /* 1 / (move . turn) */
    int steps;              /* kept so far: step s at s % FT__BAG_PAST */
} ft__bag_search;

static double ft__bag_product(const double *a, const double *b, size_t count)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < count; ++i) sum += a[i] * b[i];
    return sum;
}

static void ft__bag_add(double *to, double factor, const double *from, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i) to[i] += factor * from[i];
}

/* The direction of the next step. */
static void ft__bag_direction(ft__bag_search *s)
{
    int first = s->steps > FT__BAG_PAST ? s->steps - FT__BAG_PAST : 0, k;
    double share[FT__BAG_PAST];
    size_t n = s->numbers, i;
    for (i = 0; i < n; ++i) s->way[i] = -s->gradient[i];
    for (k = s->steps - 1; k >= first; --k) {
        int at = k % FT__BAG_PAST;
        share[at] = s->scale[at] * ft__bag_product(s->moves + (size_t)at * n, s->way, n);
        ft__bag_add(s->way, -share[at], s->turns + (size_t)at * n, n);
    }
    if (s->steps > 0) {
        const double *turn = s->turns + (size_t)((s->steps - 1) % FT__BAG_PAST) * n;
        double last = s->scale[(s->steps - 1) % FT__BAG_PAST];
        double size = 1 / (last * ft__bag_product(turn, turn, n));
        for (i = 0; i < n; ++i) s->way[i] *= size;
    }
    for (k = first; k < s->steps; ++k) {
        int at = k % FT__BAG_PAST;
        double other = s->scale[at] * ft__bag_product(s->turns + (size_t)at * n, s->way, n);
        ft__bag_add(s->way, share[at] - other, s->moves + (size_t)at * n, n);
    }
}

/* Makes a step; false: none lowers the loss, so this is the minimum as far as doubles show. */
static bool ft__bag_step(const ft__bag *bag, ft__bag_search *s, double *loss)
{
    size_t n = s->numbers, i;
    double slope = ft__bag_product(s->gradient, s->way, n), next, product, size = 1;
    double *move = s->moves + (size_t)(s->steps % FT__BAG_PAST) * n;
    double *turn = s->turns + (size_t)(s->steps % FT__BAG_PAST) * n;
    if (s->steps == 0) size = 1 / (1 + sqrt(-slope));
    for (;; size /= 2) {
        for (i = 0; i < n; ++i) s->next[i] = s->w[i] + size * s->way[i];
        next = ft__bag_loss(bag, s->next, s->next_gradient, s->logits);
        if (next <= *loss + 1e-4 * size * slope) break;
        if (size < 1e-12) return false;
    }
    for (i = 0; i < n; ++i) {
        move[i] = s->next[i] - s->w[i];
        turn[i] = s->next_gradient[i] - s->gradient[i];
    }
    memcpy(s->w, s->next, n * sizeof *s->w);
    memcpy(s->gradient, s->next_gradient, n * sizeof *s->w);
    *loss = next;
    product = ft__bag_product(move, turn, n);
    if (!(product > 0)) return false;
    s->scale[s->steps % FT__BAG_PAST] = 1 / product;
    s->steps += 1;
    return true;
}

/* Finds W and b, in w; then no number of the gradient is larger than `tolerance` * texts. */
static void ft__bag_fit(ft__context *c, const ft__bag *bag, double tolerance, double *w)
{
    ft__bag_search s;
    size_t n = ft__bag_numbers(bag), i;
    double loss, most = 1;
    int step;
    memset(&s, 0, sizeof s);
    memset(w, 0, n * sizeof *w);
    s.numbers = n;
    s.w = w;
    s.gradient = (double *)ft__allocate(c, (4 + 2 * (size_t)FT__BAG_PAST) * n
                                        + (size_t)bag->classes, sizeof *s.gradient);
    if (!s.gradient) return;
    s.next = s.gradient + n;
    s.next_gradient = s.next + n;
    s.way = s.next_gradient + n;
    s.moves = s.way + n;
    s.turns = s.moves + (size_t)FT__BAG_PAST * n;
    s.logits = s.turns + (size_t)FT__BAG_PAST * n;
    loss = ft__bag_loss(bag, s.w, s.gradient, s.logits);
    for (step = 0; step < FT__BAG_STEPS; ++step) {
        for (most = 0, i = 0; i < n; ++i)
            if (fabs(s.gradient[i]) > most) most = fabs(s.gradient[i]);
        if (!(most > tolerance * bag->texts)) break;
        ft__bag_direction(&s);
        if (!ft__bag_step(bag, &s, &loss)) break;
    }
    ft__release(c, s.gradient);
}

/* How many of the held-back texts get their class; `logits`: [classes]. */
static int ft__bag_right(const ft__bag *bag, const double *w, double *logits, int *total)
{
    int outputs = ft__bag_outputs(bag), first = bag->classes - outputs, right = 0, i, o;
    for (*total = 0, i = 0; i < bag->texts; ++i) {
        int best = 0;
        double most;
        if (bag->label[i] < 0 || !bag->held[i]) continue;
        ft__bag_logits(bag, w, i, logits);
        most = first ? 0 : logits[0];
        for (o = 0; o < outputs; ++o)
            if (logits[o] > most) {
                most = logits[o];
                best = o + first;
            }
        right += best == bag->label[i];
        *total += 1;
    }
    return right;
}

/* ---- The texts ---- */

static void ft__bag_free(ft__context *c, ft__bag *bag)
{
    ft__release(c, bag->held);
    ft__release(c, bag->label);
    ft__release(c, bag->weight);
    ft__release(c, bag->word);
    ft__release(c, bag->start);
}

/* Reads a text's pieces and counts each once, from start[text] on; an unreadable one is left out.
   `pieces` has room for `longest` of them, `last` [words] says in which text a word was last. */
static void ft__bag_read(ft_data *data, ft__bag *bag, int text, int32_t *pieces, int longest,
                         size_t *last)
{
    ft_slot slot;
    size_t at = bag->start[text];
    int i;
    memset(&slot, 0, sizeof slot);
    slot.name = "tokens";
    slot.type = FT_I32;
    slot.shape.rank = 1;
    slot.shape.size[0] = longest;
    slot.values = pieces;
    bag->label[text] = ft_data_label(data, text);
    if (bag->label[text] >= bag->classes
        || !data->source.get(data->source.user, text, 0, &slot, 1)) bag->label[text] = -1;
    for (i = 0; bag->label[text] >= 0 && i < slot.length; ++i) {
        size_t *seen;
        if (pieces[i] < 0 || pieces[i] >= bag->words) continue;
        seen = &last[pieces[i]];
        if (*seen <= bag->start[text]) { /* 1 + its place, if that is in this text */
            bag->word[at] = pieces[i];
            bag->weight[at] = 0;
            *seen = ++at;
        }
        bag->weight[*seen - 1] += 1;
    }
    bag->start[text + 1] = at;
}

/* Reads all texts, of `pieces` tokens together, none of more than `longest`. */
static void ft__bag_make(ft_data *data, ft__bag *bag, float hold_back, size_t pieces, int longest)
{
    ft_model *m = data->model;
    ft__context *c = &m->context;
    int32_t *text = (int32_t *)ft__allocate(c, (size_t)longest + 1, sizeof *text);
    size_t *last = (size_t *)ft__allocate(c, (size_t)bag->words + 1, sizeof *last);
    int i;
    bag->start = (size_t *)ft__allocate(c, (size_t)bag->texts + 1, sizeof *bag->start);
    bag->word = (int *)ft__allocate(c, pieces + 1, sizeof *bag->word);
    bag->weight = (float *)ft__allocate(c, pieces + 1, sizeof *bag->weight);
    bag->label = (int *)ft__allocate(c, (size_t)bag->texts, sizeof *bag->label);
    bag->held = (int *)ft__allocate(c, (size_t)bag->texts, sizeof *bag->held);
    if (ft__ok(c) && (hold_back == 0 || ft__split(data, hold_back, c->desc.seed, bag->held)))
        for (i = 0; i < bag->texts; ++i) ft__bag_read(data, bag, i, text, longest, last);
    ft__release(c, last);
    ft__release(c, text);
}

/* Whether there is room, and little to do: the fit visits each piece hundreds of times. */
static bool ft__bag_is_small(const ft__context *c, const ft__bag *bag, size_t pieces)
{
    size_t each = (5 + 2 * (size_t)FT__BAG_PAST) * sizeof(double), room = ft__room(c);
    double bytes = (double)ft__bag_numbers(bag) * (double)each + (double)pieces * 8
        + (double)bag->texts * 16 + (double)bag->words * 16;
    return bytes < (double)(room < (size_t)1 << 30 ? room : (size_t)1 << 30) / 2
        && (double)pieces * ft__bag_outputs(bag) < 5e7;
}

/* What a bag of words learnt. */
typedef struct ft__bag_learnt {
    double *w, *idf;        /* w: W [outputs, words], then b [outputs]; NULL: it was not tried */
    int outputs;            /* 1 of two classes: the other's logit is 0 */
    int right, total;       /* of the texts that were held back */
} ft__bag_learnt;

static void ft__bag_forget(ft__context *c, ft__bag_learnt *learnt)
{
    ft__release(c, learnt->idf);
    ft__release(c, learnt->w);
    memset(learnt, 0, sizeof *learnt);
}

/* Fits a bag of words to all texts but the share `hold_back`. Not to fewer than `least`, nor to
   more than there is room for, of which the log says so. */
static ft__bag_learnt ft__bag_learn(ft_data *data, int words, float hold_back, int least)
{
    ft__context *c = &data->model->context;
    ft__bag bag;
    ft__bag_learnt learnt;
    double *logits;
    size_t pieces = 0;
    int longest = 0, i;
    memset(&bag, 0, sizeof bag);
    memset(&learnt, 0, sizeof learnt);
    ft__data_prepare(data);
    bag.texts = ft_data_count(data);
    bag.classes = ft_data_classes(data);
    bag.words = words;
    for (i = 0; i < bag.texts; ++i) {
        int length = data->source.length(data->source.user, i);
        pieces += length > 0 ? (size_t)length : 0;
        if (length > longest) longest = length;
    }
    if (bag.texts < least || bag.classes < 2 || words < 1) return learnt;
    if (!ft__bag_is_small(c, &bag, pieces)) {
        ft__log(c, "no bag of words is fitted: %zu tokens of %d words, in %d classes, are too many",
                pieces, words, bag.classes);
        return learnt;
    }
    ft__bag_make(data, &bag, hold_back, pieces, longest);
    learnt.outputs = ft__bag_outputs(&bag);
    learnt.w = (double *)ft__allocate(c, ft__bag_numbers(&bag), sizeof *learnt.w);
    learnt.idf = (double *)ft__allocate(c, (size_t)words, sizeof *learnt.idf);
    logits = (double *)ft__allocate(c, (size_t)bag.classes, sizeof *logits);
    if (ft__ok(c)) {
        ft__bag_weigh(&bag, learnt.idf);
        ft__bag_fit(c, &bag, 1e-5, learnt.w);
    }
    if (ft__ok(c)) learnt.right = ft__bag_right(&bag, learnt.w, logits, &learnt.total);
    else ft__bag_forget(c, &learnt);
    ft__release(c, logits);
    ft__bag_free(c, &bag);
    return learnt;
}

/* Says in the log how many texts, of the share `hold_back`, a bag of words has right that learnt
   from the others. Nothing is said of fewer than 10. */
static void ft__bag_say(ft_data *data, int words, float hold_back)
{
    ft__context *c = &data->model->context;
    ft__bag_learnt learnt = ft__bag_learn(data, words, hold_back, 20);
    if (learnt.total >= 10)
        ft__log(c, "to beat: a bag of words with logistic regression has %d of %d held-back texts"
                " right (%.1f %%)", learnt.right, learnt.total,
                100.0 * learnt.right / learnt.total);
    ft__bag_forget(c, &learnt);
}
