#pragma once
#include "interface/types.h"
#include "interface/completions.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/strings.h"
#include "basics/files.h"
#include "basics/json.h"
#include "basics/sorting.h"
#include "nodes/nodes.h"
#include "graph/settings.h"
#include "graph/packing.h"
#include "text/tokenizers.h"
#include "text/tokenizer_files.h"
#include "text/tokenizing.h"
#include "text/chats.h"
#include "data/sources.h"
#include "data/tasks.h"
#include "data/tables.h"

/* =============================================================================================
   [SECTION] data/completions: Completions
   Reads JSON Lines of prompts with completions, or of messages. A sample's tokens are all but its
   last; the label of a step is the next token, if that is learnt, else -1. Packed, a row holds
   several samples.
   ============================================================================================= */
typedef struct ft__completions {
    ft__context *context;
    const char *path;       /* while it is read */
    int line;
    bool plain;             /* prompts and completions without a template */
    int stop;               /* the piece after these */
    int longest;            /* steps that are kept */
    ft__ids ids;            /* of all samples */
    ft__text learnt;        /* [ids] */
    size_t *start;          /* [count + 1]: in ids */
    int count, capacity;
    int chats, cut, empty;  /* samples: of messages, that were cut, without labels */
    int most;               /* steps of the longest */
    size_t labels;
    int rows;               /* packed: rows of samples; else 0 */
    int *order;             /* packed [count]: the samples, row after row */
    int *row;               /* packed [rows + 1]: where a row begins in that */
    char name[48];          /* number and hash of the tokens, to tell runs on other texts apart */
} ft__completions;

static int ft__sample_steps(const ft__completions *s, int sample)
{
    return (int)(s->start[sample + 1] - s->start[sample]) - 1;
}

/* The samples of a row, in s->order if it is packed. */
static int ft__row_samples(const ft__completions *s, int index, int *first)
{
    *first = s->rows ? s->row[index] : index;
    return s->rows ? s->row[index + 1] - *first : 1;
}

static int ft__row_length(void *user, int index)
{
    const ft__completions *s = (const ft__completions *)user;
    int first, count = ft__row_samples(s, index, &first), length = 0, i;
    for (i = first; i < first + count; ++i)
        length += ft__sample_steps(s, s->rows ? s->order[i] : i);
    return length;
}

/* Writes a sample's steps of a slot. */
static void ft__fill_steps(const ft__completions *s, int sample, char what, int32_t *to)
{
    const int32_t *ids = s->ids.values + s->start[sample];
    const char *learnt = s->learnt.letters + s->start[sample];
    int length = ft__sample_steps(s, sample), k;
    for (k = 0; k < length; ++k)
        to[k] = what == 't' ? ids[k] : what == 'p' ? k : learnt[k + 1] ? ids[k + 1] : -1;
}

static bool ft__completions_get(void *user, int index, int view, ft_slot *slots, int slot_count)
{
    const ft__completions *s = (const ft__completions *)user;
    int first, count = ft__row_samples(s, index, &first), length = ft__row_length(user, index);
    int i, k;
    (void)view;
    for (i = 0; i < slot_count; ++i) {
        static const char *const names[] = {"tokens", "labels", "positions"};
        int32_t *to = (int32_t *)slots[i].values, which = 0, room = slots[i].shape.size[0];
        if (slots[i].type != FT_I32) continue;
        if (slots[i].shape.rank == 0 && !strcmp(slots[i].name, "lengths")) *to = length;
        while (which < 3 && strcmp(slots[i].name, names[which]) != 0) ++which;
        if (slots[i].shape.rank != 1 || which == 3) continue;
        if (room < length) return false;
        for (k = 0; k < count; ++k) {
            int sample = s->rows ? s->order[first + k] : first;
            ft__fill_steps(s, sample, names[which][0], to);
            to += ft__sample_steps(s, sample);
        }
        for (k = length; k < room; ++k) *to++ = which == 1 ? -1 : 0;
        slots[i].length = length;
    }
    return true;
}

/* An error if the network classifies whole texts: it cannot use a label for each token. */
static void ft__completions_check_network(ft_model *m, void *user, const char *call)
{
    if (((const ft__completions *)user)->rows && !ft__places_input(m))
        ft__fail(&m->context, FT_INVALID, "%s: the completions are packed: call ft_set_packed(m,"
                 " true) first", call);
    ft__check_predicts_tokens(m, call, "ft_completions is");
}

static const char *ft__completions_name(void *user, int index)
{
    (void)index;
    return ((const ft__completions *)user)->name;
}

static void ft__completions_release(void *user)
{
    ft__completions *s = (ft__completions *)user;
    ft__context *c = s->context;
    ft__release(c, s->row);
    ft__release(c, s->order);
    ft__release(c, s->start);
    ft__release(c, s->learnt.letters);
    ft__release(c, s->ids.values);
    ft__release(c, s);
}

/* ---- Reading ---- */

/* Adds the sample that the chat holds. */
static void ft__completions_add(ft__completions *s, ft__chat *chat)
{
    ft__context *c = s->context;
    size_t count, i, labels = 0;
    ft__chat_flush(chat);
    count = chat->ids.count;
    if (ft__ok(c) && count < 2)
        ft__fail(c, FT_FORMAT, "%s: line %d: has no text", s->path, s->line);
    if (s->count + 1 >= s->capacity && ft__ok(c)) {
        int capacity = s->capacity < INT_MAX / 4 ? 2 * s->capacity + 256 : INT_MAX;
        size_t *start = (size_t *)ft__grow(c, s->start, s->start ? (size_t)s->count + 1 : 0,
                                           (size_t)capacity, sizeof *start);
        if (start) s->start = start;
        s->capacity = capacity;
    }
    if (!ft__ok(c)) return;
    if (count - 1 > (size_t)s->longest) {
        count = (size_t)s->longest + 1;
        s->cut += 1;
    }
    for (i = 0; i < count; ++i) {
        ft__ids_add(&s->ids, chat->ids.values[i]);
        labels += i > 0 && chat->learnt.letters[i];
    }
    ft__text_add_bytes(&s->learnt, chat->learnt.letters, count);
    if (!ft__ok(c)) return;
    if ((int)count - 1 > s->most) s->most = (int)count - 1;
    s->empty += labels == 0;
    s->labels += labels;
    s->count += 1;
    s->start[s->count] = s->ids.count;
}

/* A member that must be a text. */
static const char *ft__completion_text(ft__completions *s, const ft__json *json, int object,
                                       const char *key)
{
    const char *text = ft__json_string(json, ft__json_member(json, object, key));
    if (!text) ft__fail(s->context, FT_FORMAT, "%s: line %d: \"%s\" must be a text", s->path,
                        s->line, key);
    return text;
}

/* A prompt with its completion, without a template. */
static void ft__completion_plain(ft__completions *s, ft__chat *chat, const char *prompt,
                                 const char *completion)
{
    const ft_tokenizer *t = chat->tokenizer;
    int i;
    if (s->stop < 0)
        ft__fail(s->context, FT_INVALID, "%s: the tokeniser has no piece that ends a text; name one"
                 " by ft_completion_options.stop", s->path);
    for (i = 0; i < t->before_count; ++i) ft__chat_id(chat, t->before[i], false);
    chat->first = true;
    ft__chat_text(chat, prompt, strlen(prompt), false);
    ft__chat_text(chat, completion, strlen(completion), true);
    ft__chat_piece(chat, s->stop, true);
}

static void ft__completion_messages(ft__completions *s, ft__chat *chat, const ft__json *json,
                                    int list)
{
    const char *wrong = NULL;
    int i;
    if (ft__json_count(json, list) < 1)
        ft__fail(s->context, FT_FORMAT, "%s: line %d: \"messages\" must be a list of {\"role\","
                 " \"content\"}", s->path, s->line);
    for (i = list + 1; ft__ok(s->context) && !wrong && i < json->values[list].next;
         i = json->values[i].next) {
        const char *role = ft__completion_text(s, json, i, "role");
        const char *content = role ? ft__completion_text(s, json, i, "content") : NULL;
        if (content) wrong = ft__chat_turn(chat, role, content);
    }
    if (wrong) ft__fail(s->context, FT_FORMAT, "%s: line %d: %s", s->path, s->line, wrong);
    s->chats += 1;
}

static void ft__completion_record(ft__completions *s, ft__chat *chat, const ft__json *json)
{
    int messages = ft__json_member(json, 0, "messages");
    const char *prompt, *completion, *by;
    ft__chat_next(chat);
    if (s->count > 0 && s->plain && (messages >= 0) != (s->chats > 0))
        ft__fail(s->context, FT_FORMAT, "%s: line %d: prompts and messages in one file need"
                 " ft_completion_options.chat", s->path, s->line);
    if (ft__ok(s->context) && messages >= 0 && chat->kind == FT_CHAT_AUTO) {
        ft_chat_template kind = ft__chat_shown(chat->tokenizer, &by);
        if (kind == FT_CHAT_AUTO)
            ft__fail(s->context, FT_INVALID, "%s: the tokeniser's pieces show no chat template; set"
                     " ft_completion_options.chat", s->path);
        else ft__log(s->context, "%s: messages are written in %s's template, as the tokeniser has"
                     " %s", s->path, ft__chat_kinds[kind].name, by);
        ft__chat_end(chat);
        ft__chat_begin(chat, chat->tokenizer, kind);
    }
    if (!ft__ok(s->context)) return;
    if (messages >= 0) {
        ft__completion_messages(s, chat, json, messages);
        return;
    }
    prompt = ft__completion_text(s, json, 0, "prompt");
    completion = prompt ? ft__completion_text(s, json, 0, "completion") : NULL;
    if (!completion) return;
    if (s->plain) ft__completion_plain(s, chat, prompt, completion);
    else if (ft__chat_turn(chat, "user", prompt) == NULL)
        ft__chat_turn(chat, "assistant", completion);
}

static void ft__completions_read(ft__completions *s, ft__chat *chat, const char *text, size_t bytes)
{
    ft__context *c = s->context;
    const char *line;
    size_t at = 0, count, fault;
    while (ft__ok(c) && ft__next_line(text, bytes, &at, &line, &count)) {
        ft__json *json;
        s->line += 1;
        if (ft__spaces_at(line, count, false) == count) continue;
        json = ft__json_parse_at(c, line, count, &fault);
        if (ft__ok(c) && !json)
            ft__fail(c, FT_FORMAT, "%s: line %d is not JSON: error at byte %llu of the line",
                     s->path, s->line, (unsigned long long)fault);
        else if (ft__ok(c) && !ft__json_at(json, 0, 'o'))
            ft__fail(c, FT_FORMAT, "%s: line %d must be an object with \"prompt\" and"
                     " \"completion\", or with \"messages\"", s->path, s->line);
        if (ft__ok(c)) ft__completion_record(s, chat, json);
        if (ft__ok(c)) ft__completions_add(s, chat);
        ft__json_free(c, json);
    }
    if (ft__ok(c) && s->count == 0) ft__fail(c, FT_FORMAT, "%s: has no completions", s->path);
}

static bool ft__longer_sample(const void *context, int a, int b)
{
    const ft__completions *s = (const ft__completions *)context;
    int one = ft__sample_steps(s, a), other = ft__sample_steps(s, b);
    return one != other ? one > other : a < b;
}

/* Packs the samples, the longest first, each into the row that has the least room for it left (best
   fit decreasing). rows_with[room]: the last row with this room, and before[row] the one before. */
static void ft__pack_samples(ft__completions *s)
{
    ft__context *c = s->context;
    size_t count = (size_t)s->count, rooms = (size_t)s->longest + 1;
    int *longest = (int *)ft__allocate(c, count, sizeof *longest), i, room;
    int *in_row = (int *)ft__allocate(c, count, sizeof *in_row);
    int *before = (int *)ft__allocate(c, count, sizeof *before);
    int *rows_with = (int *)ft__allocate(c, rooms, sizeof *rows_with); /* number + 1; 0: none */
    s->order = (int *)ft__allocate(c, count, sizeof *s->order);
    s->row = (int *)ft__allocate(c, count + 2, sizeof *s->row);
    if (ft__ok(c)) ft__sort_order(longest, s->count, ft__longer_sample, s);
    for (i = 0; ft__ok(c) && i < s->count; ++i) {
        int steps = ft__sample_steps(s, longest[i]), row;
        for (room = steps; room < s->longest && !rows_with[room];) ++room;
        row = rows_with[room] ? rows_with[room] - 1 : s->rows++;
        if (rows_with[room]) rows_with[room] = before[row];
        before[row] = rows_with[room - steps];
        rows_with[room - steps] = row + 1;
        in_row[longest[i]] = row;
        s->row[row + 2] += 1; /* counted one place further on: see below */
    }
    for (i = 0; ft__ok(c) && i < s->rows; ++i) s->row[i + 2] += s->row[i + 1];
    for (i = 0; ft__ok(c) && i < s->count; ++i) s->order[s->row[in_row[i] + 1]++] = i;
    ft__release(c, rows_with);
    ft__release(c, before);
    ft__release(c, in_row);
    ft__release(c, longest);
}

/* Says what was read and what is learnt. */
static void ft__completions_say(ft__completions *s, const ft_tokenizer *t, int stop)
{
    ft__log(s->context, "%s: %d completions of up to %d tokens; %zu of all %zu tokens are learnt:"
            " what answers, and %s after it", s->path, s->count, s->most, s->labels,
            s->ids.count - (size_t)s->count, ft__piece_text(&t->pieces, stop));
    if (s->rows) ft__log(s->context, "%s: they are packed into %d rows of up to %d tokens", s->path,
                         s->rows, s->longest);
    if (s->cut) ft__log(s->context, "%s: %d of the completions are longer than %d tokens"
                        " (max_length): their ends are cut", s->path, s->cut, s->longest);
    if (s->empty) ft__log(s->context, "%s: %d of the completions have nothing to learn", s->path,
                          s->empty);
    ft__print(s->name, sizeof s->name, "%zu tokens %016llx", s->ids.count, (unsigned long long)
              ft__hash_bytes(ft__hash_bytes(0, s->ids.values, s->ids.count * sizeof *s->ids.values),
                             s->learnt.letters, s->learnt.count));
}

/* The tokeniser and the piece after a completion; an error if there is none. */
static ft_tokenizer *ft__completions_tokenizer(ft_model *m, const ft_completion_options *o,
                                               int *stop)
{
    ft_tokenizer *t = o->tokenizer ? o->tokenizer : m->tokenizer;
    ft__context *c = &m->context;
    const ft__field_use uses[] = {
        {"stop", o->stop != NULL, o->chat == FT_CHAT_AUTO, "completions without a template"},
        {"bytes", o->bytes > 0, o->memory != NULL, "memory"}};
    if (ft__check_uses(c, "ft_completions", uses, sizeof uses / sizeof uses[0]) != FT_OK)
        return NULL;
    if (!t || t->model != m || (unsigned)o->chat > FT_CHAT_LLAMA2 || o->longest < 0) {
        ft__fail(c, FT_INVALID, !t ? "ft_completions: the model has no tokeniser: load one"
                 : t->model != m ? "ft_completions: the tokeniser belongs to another model"
                 : "ft_completions: chat must be one of ft_chat_template, longest not negative");
        return NULL;
    }
    *stop = o->stop ? ft__find_piece(t, o->stop) : t->end;
    if (o->stop && *stop < 0)
        ft__fail(c, FT_INVALID, "ft_completions: stop: the tokeniser has no piece %s", o->stop);
    return ft__ok(c) ? t : NULL;
}

static ft_data *ft__completions_data(ft_model *m, ft__completions *s, int pieces)
{
    ft_source source;
    ft_data *data;
    memset(&source, 0, sizeof source);
    source.user = s;
    source.count = s->rows ? s->rows : s->count;
    source.get = ft__completions_get;
    source.name = ft__completions_name;
    source.length = ft__row_length;
    source.release = ft__completions_release;
    data = ft_data_source(m, source);
    if (!data) return NULL;
    data->features.check_network = ft__completions_check_network;
    data->features.samples = "completions";
    data->fills = s->rows ? "tokens,lengths,labels,positions" : "tokens,lengths,labels";
    data->pieces = pieces;
    data->task = FT_TASK_LANGUAGE_MODEL;
    return data;
}

ft_data *ft_completions(ft_model *m, const char *path, ft_completion_options options)
{
    ft__context *c;
    ft__completions *s;
    ft_tokenizer *t;
    ft__chat chat;
    ft_data *data = NULL;
    unsigned char *content = NULL;
    const char *text = (const char *)options.memory;
    size_t bytes = options.bytes;
    char *owned = NULL;
    int stop = -1;
    if (!ft__usable(m) || !FT__HAS(m, TEXT) || !FT__HAS(m, DATA)) return NULL;
    c = &m->context;
    if (!options.memory && !ft__given(c, path, "ft_completions: the path")) return NULL;
    t = ft__completions_tokenizer(m, &options, &stop);
    s = t ? (ft__completions *)ft__allocate(c, 1, sizeof *s) : NULL;
    if (!s) return NULL;
    if (options.longest) ft_set_max_length(m, options.longest);
    s->context = s->ids.context = s->learnt.context = c;
    s->path = path ? path : "(memory)";
    s->longest = ft_max_length(m);
    s->plain = options.chat == FT_CHAT_AUTO;
    s->stop = stop;
    ft__chat_begin(&chat, t, options.chat);
    if (!text && ft__ok(c)) text = (const char *)(content = ft__read_file(c, path, &bytes));
    if (text && ft__ok(c) && ft__as_utf8(c, s->path, &text, &bytes, &owned))
        ft__completions_read(s, &chat, text, bytes);
    if (chat.stop >= 0) stop = chat.stop;
    if (ft__ok(c) && options.packed) ft__pack_samples(s);
    if (ft__ok(c)) ft__completions_say(s, t, stop);
    if (ft__ok(c) && (t->end != stop || m->tokenizer != t)) { /* generation stops there */
        t->end = stop;
        ft_set_tokenizer(m, t);
    }
    s->path = NULL;
    ft__chat_end(&chat);
    ft__release(c, owned);
    ft__release(c, content);
    if (ft__ok(c)) data = ft__completions_data(m, s, t->pieces.count);
    if (!data) ft__completions_release(s);
    return data;
}
