/* text.h - the verbs' work on text: data, networks, the worst mistakes, generate.
   Part of examples/finetune.c. */

static bool is_table(const char *path)
{
    return ends_with(path, ".tsv") || ends_with(path, ".csv") || ends_with(path, ".jsonl");
}

/* Is it JSON Lines of prompts with completions, or of messages? The first line decides. */
static bool is_completions(const char *path)
{
    char line[8192];
    FILE *file = ends_with(path, ".jsonl") ? fopen(path, "rb") : NULL;
    size_t bytes = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) fclose(file);
    line[bytes] = 0;
    line[strcspn(line, "\n")] = 0;
    return strstr(line, "\"messages\"")
        || (strstr(line, "\"prompt\"") && strstr(line, "\"completion\""));
}

/* Sentences whose words have classes. The library also recognises other names, by their content. */
static bool is_sentences(const char *path)
{
    return ends_with(path, ".conll") || ends_with(path, ".bio") || ends_with(path, ".iob");
}

/* Is it a folder of folders with files that end in .txt? The first file found decides. */
static bool is_text_folder(const char *path)
{
    DIR *outer = opendir(path), *inner;
    struct dirent *entry, *file;
    char name[4096];
    bool found = false, text = false;
    while (outer && !found && (entry = readdir(outer))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        inner = opendir(name);
        while (inner && !found && (file = readdir(inner))) {
            found = file->d_name[0] != '.';
            text = found && ends_with(file->d_name, ".txt");
        }
        if (inner) closedir(inner);
    }
    if (outer) closedir(outer);
    return text;
}

static bool is_text(const char *path)
{
    return is_table(path) || ends_with(path, ".txt") || is_sentences(path) || is_text_folder(path);
}

/* Does the model read text, or will the one that is to be built? */
static bool reads_text(const ft_model *m, const options *o)
{
    return ft_find(m, "tokens").id != 0
        || (!o->model && o->data && (o->words || is_text(o->data)));
}

/* Language models have logits for each step, [N, L, tokens], and so have models that classify words,
   [N, L, classes]. */
static bool has_step_outputs(const ft_model *m)
{
    return ft_output(m).id != 0 && ft_node_shape(m, ft_output(m)).rank == 3;
}

static bool is_language_model(const ft_model *m) { return has_step_outputs(m) && ft_class_count(m) == 0; }
static bool classifies_words(const ft_model *m) { return has_step_outputs(m) && ft_class_count(m) > 0; }

/* Does the network give a number instead of classes? */
static bool gives_number(const ft_model *m)
{
    ft_shape shape = ft_node_shape(m, ft_output(m));
    return shape.rank == 2 && shape.size[1] == 1 && ft_class_count(m) == 0;
}

static bool wants_language_model(const ft_model *m, const options *o)
{
    if (wanted_task(o) != FT_TASK_AUTO) return wanted_task(o) == FT_TASK_LANGUAGE_MODEL;
    return o->model ? is_language_model(m) && !o->label_column
                    : ends_with(o->data, ".txt") || is_completions(o->data);
}

/* Do all options have an effect with this model, or with the one that is to be built? Prints one
   that has none. */
static bool suits_model(const ft_model *m, const options *o)
{
    bool streams = o->data && reads_text(m, o) && wants_language_model(m, o);
    bool completions = streams && !o->text_column && is_completions(o->data);
    bool whole = o->data
        && (streams ? !is_table(o->data) : is_text_folder(o->data) || is_sentences(o->data));
    int facts = reads_text(m, o) ? TEXTS : PICTURES;
    if (!reads_text(m, o) && o->data && is_arrays(o->data)) facts |= ARRAYS;
    facts |= completions ? COMPLETIONS | SAMPLES : streams ? STREAMS : LABELLED | SAMPLES;
    if (!o->data) facts |= COMPLETIONS; /* generate's prompts */
    if (!whole) facts |= TABLE;
    if (!ft_get_tokenizer(m) && !o->vocabulary) facts |= NEW_WORDS;
    if (ft_class_count(m) == 0) facts |= NO_CLASSES;
    if (wanted_task(o) == FT_TASK_LANGUAGE_MODEL && !(facts & NO_CLASSES) && o->task) {
        usage("--task language-model: this network classifies texts", "");
        return false;
    }
    return all_have_effect(o, ~(PICTURES - 1), facts);
}

/* Sets the length of texts for which memory is printed, and returns it: 128 tokens, or as many as are read
   of a text. 0: the network reads no texts. */
static int set_shown_length(ft_model *m)
{
    int length = ft_max_length(m) < 128 ? ft_max_length(m) : 128;
    if (!ft_find(m, "tokens").id) return 0;
    ft_set_length(m, length);
    return length;
}

static void set_max_length(ft_model *m, const options *o)
{
    if (o->max_length > 0) ft_set_max_length(m, o->max_length);
}

static int unsuited(ft_model *m)
{
    ft_destroy(m);
    return USAGE;
}

/* Opens --vocabulary, for weights that came without one. */
static void open_vocabulary(ft_model *m, const options *o)
{
    ft_tokenizer_options how;
    memset(&how, 0, sizeof how);
    how.merges = o->merges;
    if (o->vocabulary) ft_set_tokenizer(m, ft_tokenizer_load(m, o->vocabulary, how));
}

static ft_table_header header_option(const options *o)
{
    return !o->header ? FT_HEADER_AUTO : !strcmp(o->header, "yes") ? FT_HEADER_YES : FT_HEADER_NO;
}

/* For evaluation the labels must be among the classes of `training` or, if that is NULL, of the
   model. */
static ft_data *open_texts(ft_model *m, const options *o, const char *path, bool evaluation,
                           const ft_data *training)
{
    ft_text_options texts;
    ft_stream_options streams;
    ft_completion_options completions;
    memset(&texts, 0, sizeof texts);
    memset(&streams, 0, sizeof streams);
    if (wants_language_model(m, o) && !o->text_column && is_completions(path)) {
        memset(&completions, 0, sizeof completions);
        completions.chat = chat_template(o);
        completions.stop = o->stop;
        completions.packed = o->pack;
        return ft_completions(m, path, completions);
    }
    if (wants_language_model(m, o)) {
        streams.table = is_table(path);
        streams.text_column = o->text_column;
        streams.header = header_option(o);
        streams.streams = o->streams;
        streams.steps = o->steps;
        streams.vocabulary_kind = o->words ? FT_WORDS : FT_CHARACTERS;
        streams.vocabulary.minimum_count = o->minimum_count;
        return ft_text_streams(m, path, streams);
    }
    texts.text_column = o->text_column;
    texts.label_column = o->label_column;
    texts.header = header_option(o);
    texts.task = wanted_task(o);
    texts.pair = o->pairs;
    texts.match_classes = evaluation && !training && texts.task != FT_TASK_EMBEDDINGS;
    if (texts.task != FT_TASK_EMBEDDINGS) texts.classes_of = training;
    if (!evaluation) texts.minimum_score = (float)o->minimum_score;
    if (!evaluation) texts.per_class = o->per_class;
    if (!evaluation) texts.vocabulary.minimum_count = o->minimum_count;
    return ft_texts(m, path, texts);
}

/* ---- Networks ---- */

/* Builds a model with random weights. An LSTM or GRU that classifies reads the last, maximum and mean step. */
static void build_text_network(ft_model *m, const options *o, const ft_data *data)
{
    bool language_model = wants_language_model(m, o);
    const char *kind = language_model ? "lstm_lm" : o->network ? o->network : "lstm_classifier";
    ft_network_options network;
    memset(&network, 0, sizeof network);
    network.words = ft_tokenizer_count(ft_get_tokenizer(m));
    network.classes = ft_data_classes(data);
    if (!strcmp(kind, "bag_of_words")) {
        ft_network(m, kind, network);
        return;
    }
    network.hidden = o->hidden > 0 ? o->hidden : 128;
    network.embedding = network.hidden;
    network.layers = o->layers;
    network.bidirectional = !o->one_direction;
    network.pooling = FT_POOL_ALL;
    network.dropout = language_model ? 0.2f : 0.5f;
    ft_network(m, kind, network);
}

static bool is_recurrent(const ft_model *m)
{
    ft_node node;
    for (node.id = 1; node.id <= ft_node_count(m); ++node.id) {
        const char *kind = ft_node_operator(m, node);
        if (kind && (!strcmp(kind, "lstm") || !strcmp(kind, "gru") || !strcmp(kind, "rnn"))) return true;
    }
    return false;
}

/* Opens the data of a model that reads text. Builds the model if there is none, and gives a
   language model a classifier's head if it is to learn classes. */
static ft_data *open_text_training(ft_model *m, const options *o)
{
    ft_language_model_to_classifier_options head;
    bool new_task = o->model && is_language_model(m) && !wants_language_model(m, o);
    ft_data *data;
    memset(&head, 0, sizeof head);
    if (is_recurrent(m)) head.dropout = 0.5f;
    open_vocabulary(m, o);
    data = open_texts(m, o, o->data, false, NULL);
    if (!o->model && !ft_error(m)) build_text_network(m, o, data);
    if (new_task && !ft_error(m)) ft_language_model_to_classifier(
        m, ft_data_classes(data) ? ft_data_classes(data) : 2, head); /* 2: ft_finetune changes it */
    return data;
}

/* ---- The worst mistakes ---- */
enum { MOST_MISTAKES = 100 };

typedef struct mistakes {
    int most, count;
    ft_sample_result worst[MOST_MISTAKES]; /* the most confident mistake first */
} mistakes;

static void note_mistake(void *user, const ft_sample_result *result)
{
    mistakes *all = (mistakes *)user;
    int i;
    if (result->guess == result->label) return;
    for (i = all->count; i > 0 && all->worst[i - 1].probability < result->probability; --i)
        if (i < all->most) all->worst[i] = all->worst[i - 1];
    if (i < all->most) all->worst[i] = *result;
    if (all->count < all->most) all->count += 1;
}

static void print_mistakes(const ft_data *data, const mistakes *all, bool json)
{
    int i;
    if (json) printf(", \"mistakes\": [");
    else if (all->count > 0) printf("the worst mistakes:\n");
    for (i = 0; i < all->count; ++i) {
        const ft_sample_result *r = &all->worst[i];
        if (!json) {
            printf("  %s, predicted as %s (%.1f %%): %.300s\n", shown(ft_data_class_name(data, r->label)),
                   shown(ft_data_class_name(data, r->guess)), 100 * (double)r->probability,
                   shown(ft_data_name(data, r->index)));
            continue;
        }
        printf("%s{\"text\": ", i ? ", " : "");
        print_json_text(ft_data_name(data, r->index));
        printf(", \"class\": ");
        print_json_text(ft_data_class_name(data, r->label));
        printf(", \"guess\": ");
        print_json_text(ft_data_class_name(data, r->guess));
        printf(", \"probability\": %.6f}", (double)r->probability);
    }
    if (json) printf("]");
}

/* ---- generate ---- */
typedef struct printed { bool json; int count; char **texts; int *tokens; } printed;

/* Keeps the text of one of several prompts, or prints that of the only one at once. */
static bool print_token(void *user, const ft_generated *token)
{
    printed *p = (printed *)user;
    char **text = &p->texts[token->prompt], *grown;
    size_t length = *text ? strlen(*text) : 0;
    if (token->id >= 0) p->tokens[token->prompt] += 1;
    if (!p->json && p->count == 1) {
        print_text(stdout, token->text, true);
        return fflush(stdout) == 0 && !interrupted;
    }
    grown = (char *)realloc(*text, length + token->bytes + 1);
    if (!grown) return false;
    memcpy(grown + length, token->text, token->bytes + 1);
    *text = grown;
    return !interrupted;
}

/* Prints what was kept: a line for each prompt, or an object. */
static void print_texts(const printed *p, const char *const *prompts)
{
    int i;
    for (i = 0; i < p->count; ++i) {
        const char *text = p->texts[i] ? p->texts[i] : "";
        if (p->json) {
            printf("{");
            if (prompts) {
                printf("\"prompt\": ");
                print_json_text(prompts[i]);
                printf(", ");
            }
            printf("\"tokens\": %d, \"text\": ", p->tokens[i]);
            print_json_text(text);
            printf("}");
        } else if (p->count > 1) {
            print_text(stdout, prompts[i], true);
            print_text(stdout, text, true);
        }
        printf("\n");
    }
}

static int generate(const options *o)
{
    ft_generate_options how;
    printed p = {o->json, o->file_count ? o->file_count : 1, NULL, NULL};
    const char *const *prompts = o->file_count ? (const char *const *)o->files : o->prompt ? &o->prompt : NULL;
    ft_model *m;
    int i;
    if (!o->model) return usage("generate needs --model", "");
    if (o->prompt && o->file_count) return usage("--prompt and texts: only one of both: ", o->files[0]);
    if (!(m = open_model(o))) return FAILED;
    if (ft_error(m)) return report(m);
    if (!suits_model(m, o)) return unsuited(m);
    open_vocabulary(m, o);
    p.texts = (char **)calloc((size_t)p.count, sizeof *p.texts);
    p.tokens = (int *)calloc((size_t)p.count, sizeof *p.tokens);
    if (!p.texts || !p.tokens) return FAILED;
    memset(&how, 0, sizeof how);
    how.prompts = prompts;
    how.prompt_count = prompts ? p.count : 0;
    how.stops = &o->until;
    how.stop_count = o->until != NULL;
    if (!o->until) how.stops = NULL;
    how.length = o->length;
    how.temperature = (float)o->temperature;
    how.top_k = o->top_k;
    how.top_p = (float)o->top_p;
    how.greedy = o->greedy;
    how.seed = o->seed;
    how.chat = chat_template(o);
    how.token = print_token;
    how.token_user = &p;
    if (prompts && p.count == 1 && !o->json) print_text(stdout, prompts[0], true);
    ft_generate(m, how);
    if (ft_error(m)) return report(m);
    print_texts(&p, prompts);
    for (i = 0; i < p.count; ++i) free(p.texts[i]);
    free(p.texts);
    free(p.tokens);
    ft_destroy(m);
    return DONE;
}
