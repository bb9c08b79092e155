#pragma once
#include "interface/types.h"
#include "interface/training_types.h"
#include "platform/context.h"
#include "basics/numbers.h"
#include "nodes/nodes.h"
#include "graph/forward_backward.h"
#include "graph/settings.h"
#include "text/words.h"

/* =============================================================================================
   [SECTION] training/entities: Entities: runs of words, from the classes of words
   Counted as seqeval does by default, by conlleval's rules (Tjong Kim Sang and Buchholz 2000):
   B-TYPE begins an entity, I-TYPE continues one of its type and otherwise begins one. A predicted
   entity is right if its type, its first and its last word are.
   ============================================================================================= */
typedef struct ft__tag { char kind; int type; } ft__tag; /* kind: O, B or I; type: of O it is -1 */

typedef struct ft__entities {
    ft__tag *tags;          /* [classes]; NULL: the classes are no such tags */
    int correct, predicted, total;
} ft__entities;

typedef struct ft__chunk { int type, start; } ft__chunk; /* an open entity; type -1: none is open */

static const ft__tag ft__outside = {'O', -1};

/* The tags that the model's classes are, for the caller to release. A type is the number of the
   first class that has it. NULL: they are others, or an error. */
static ft__tag *ft__model_tags(ft_model *m)
{
    ft__tag *tags;
    int i, k;
    if (!ft__classifies_steps(m)) return NULL;
    for (i = 0; i < m->class_count; ++i) {
        const char *name = m->class_names[i];
        if (strcmp(name, "O") != 0 && strncmp(name, "B-", 2) != 0 && strncmp(name, "I-", 2) != 0)
            return NULL;
    }
    tags = (ft__tag *)ft__allocate(&m->context, (size_t)m->class_count, sizeof *tags);
    for (i = 0; tags && i < m->class_count; ++i) {
        tags[i].kind = m->class_names[i][0];
        for (k = 0; strcmp(m->class_names[k] + 1, m->class_names[i] + 1) != 0; ++k) {}
        tags[i].type = tags[i].kind == 'O' ? -1 : k;
    }
    return tags;
}

/* Goes on to the next word's tag; true if the open entity, put into *ended, ended before it. */
static bool ft__chunk_step(ft__chunk *open, ft__tag tag, int at, ft__chunk *ended)
{
    *ended = *open;
    if (open->type >= 0 && tag.kind == 'I' && tag.type == open->type) return false;
    open->type = tag.type;
    open->start = at;
    return ended->type >= 0;
}

/* Two readings of a sentence, word by word. */
typedef struct ft__two_readings { ft__chunk want, got; int at; } ft__two_readings;

static ft__two_readings ft__readings_start(void)
{
    const ft__two_readings none = {{-1, 0}, {-1, 0}, 0};
    return none;
}

static void ft__entities_word(ft__entities *e, ft__two_readings *r, ft__tag want, ft__tag got)
{
    ft__chunk a, b;
    bool wanted = ft__chunk_step(&r->want, want, r->at, &a);
    bool found = ft__chunk_step(&r->got, got, r->at, &b);
    e->total += wanted;
    e->predicted += found;
    e->correct += wanted && found && a.type == b.type && a.start == b.start;
    r->at += 1;
}

/* Adds the sample in a row of the batch that was just run: its words or, of a source that does not
   tell them, its steps that have a label. */
static void ft__entities_sample(const ft_model *m, const ft__plan *plan, const ft_data *data,
                                int row, int index, ft__entities *e)
{
    const int32_t *labels = (const int32_t *)(const void *)ft__labels_of(m)->value;
    const float *logits = plan->values[m->output.id - 1];
    size_t classes = (size_t)m->class_count, steps = (size_t)m->length, count = steps, i;
    const ft__word *words = NULL;
    ft__two_readings r = ft__readings_start();
    logits += (size_t)row * steps * classes;
    labels += (size_t)row * steps;
    if (data->features.words) words = data->features.words(data->source.user, index, &count);
    for (i = 0; i < count; ++i) {
        int want = words ? words[i].tag : labels[i], place = words ? words[i].place : (int)i;
        ft__tag got = ft__outside;
        if (want < 0 || want >= m->class_count) continue;
        if (place >= 0) got = e->tags[ft__argmax(logits + (size_t)place * classes, (int)classes)];
        ft__entities_word(e, &r, e->tags[want], got);
    }
    ft__entities_word(e, &r, ft__outside, ft__outside);
}

/* Of no entities the share is 0, as in seqeval. */
static double ft__share(int part, int whole) { return whole > 0 ? (double)part / whole : 0; }

static void ft__entities_end(const ft__entities *e, ft_evaluation *to)
{
    to->entities = e->tags != NULL;
    to->entities_correct = e->correct;
    to->entities_predicted = e->predicted;
    to->entities_total = e->total;
    to->precision = ft__share(e->correct, e->predicted);
    to->recall = ft__share(e->correct, e->total);
    to->f1 = ft__share(2 * e->correct, e->predicted + e->total);
}
