/* text.h - what the verbs do with text: data, networks, the worst mistakes, generate.
   Part of examples/finetune.c. */

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static bool is_table(const char *path)
{
    return ends_with(path, ".tsv") || ends_with(path, ".csv") || ends_with(path, ".jsonl");
}

/* Does the model read text, or will the one that is to be built? */
static bool reads_text(const ft_model *m, const options *o)
{
    return ft_find(m, "tokens").id != 0
        || (!o->model && o->data && (is_table(o->data) || ends_with(o->data, ".txt") || o->words));
}

/* Language models give scores for each step: [N, L, tokens]. */
static bool is_language_model(const ft_model *m)
{
    return ft_output(m).id != 0 && ft_node_shape(m, ft_output(m)).rank == 3;
}

static bool wants_language_model(const ft_model *m, const options *o)
{
    return o->language_model || (o->model ? is_language_model(m) && !o->label_column
                                          : ends_with(o->data, ".txt"));
}

/* The vocabulary that --vocabulary names, for weights that came without one. */
static void open_vocabulary(ft_model *m, const options *o)
{
    ft_tokenizer_options how;
    memset(&how, 0, sizeof how);
    how.merges = o->merges;
    if (o->vocabulary) ft_set_tokenizer(m, ft_tokenizer_load(m, o->vocabulary, how));
}

static ft_data *open_texts(ft_model *m, const options *o, const char *path, bool evaluation)
{
    ft_text_options texts;
    ft_stream_options streams;
    memset(&texts, 0, sizeof texts);
    memset(&streams, 0, sizeof streams);
    if (wants_language_model(m, o)) {
        streams.text_column = is_table(path) ? (o->text_column ? o->text_column : "1") : NULL;
        streams.streams = o->streams;
        streams.steps = o->steps;
        streams.vocabulary_kind = o->words ? FT_WORDS : FT_CHARACTERS;
        streams.vocabulary.minimum_count = o->minimum_count;
        return ft_text_streams(m, path, streams);
    }
    texts.text_column = o->text_column;
    texts.label_column = o->label_column;
    texts.vocabulary.minimum_count = o->minimum_count;
    texts.match_classes = evaluation;
    if (!evaluation) texts.per_class = o->per_class;
    return ft_texts(m, path, texts);
}

/* ---- Networks for models that begin at random ---- */

static ft_node input_of(ft_model *m, const char *name, int length)
{
    ft_input_options input;
    memset(&input, 0, sizeof input);
    input.type = FT_I32;
    input.size[0] = length;
    return ft_input(m, name, input);
}

/* Embedding and LSTM, as both networks begin with. */
static ft_node build_encoder(ft_model *m, const options *o, ft_node lengths, bool carry)
{
    ft_embedding_options embedding;
    ft_recurrent_options lstm;
    ft_dropout_options dropout;
    ft_node x = input_of(m, "tokens", FT_LENGTH);
    int hidden = o->hidden > 0 ? o->hidden : 128;
    int features = o->features > 0 ? o->features : hidden;
    memset(&embedding, 0, sizeof embedding);
    memset(&lstm, 0, sizeof lstm);
    memset(&dropout, 0, sizeof dropout);
    dropout.probability = carry ? 0.2f : 0.5f;
    lstm.layers = o->layers > 0 ? o->layers : carry ? 2 : 1;
    lstm.bidirectional = !carry && !o->one_direction;
    lstm.lengths = lengths;
    lstm.carry = carry;
    x = ft_embedding(m, "embedding", x, ft_tokenizer_count(ft_get_tokenizer(m)), features,
                     embedding);
    x = ft_dropout(m, "embedding_dropout", x, dropout);
    x = ft_lstm(m, "lstm", x, hidden, lstm);
    return x;
}

static void finish_network(ft_model *m, ft_node logits, ft_node labels)
{
    ft_loss_options loss;
    memset(&loss, 0, sizeof loss);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, labels, loss));
}

static void build_language_model(ft_model *m, const options *o)
{
    ft_linear_options linear;
    ft_node none = {0}, x = build_encoder(m, o, none, true);
    memset(&linear, 0, sizeof linear);
    x = ft_linear(m, "out", x, ft_tokenizer_count(ft_get_tokenizer(m)), linear);
    finish_network(m, x, input_of(m, "labels", FT_LENGTH));
}

/* ULMFiT's head: the last, largest and mean step side by side (Howard and Ruder 2018). */
static void build_classifier(ft_model *m, const options *o, const ft_data *data)
{
    static const char *const names[] = {"last", "mean", "max"};
    const char *classes[256];
    ft_step_pool_options pool;
    ft_dropout_options dropout;
    ft_linear_options linear;
    ft_node lengths = input_of(m, "lengths", 0), labels = input_of(m, "labels", 0), x, pooled[3];
    int k, count = ft_data_classes(data);
    memset(&pool, 0, sizeof pool);
    memset(&dropout, 0, sizeof dropout);
    memset(&linear, 0, sizeof linear);
    x = build_encoder(m, o, lengths, false);
    pool.bidirectional = !o->one_direction;
    for (k = 0; k < 3; ++k) {
        pool.kind = (ft_step_pooling)k;
        pooled[k] = ft_step_pool(m, names[k], x, lengths, pool);
    }
    x = ft_concat(m, "pooled", 3, pooled, 1);
    x = ft_dropout(m, "dropout", x, dropout);
    finish_network(m, ft_linear(m, "head", x, count, linear), labels);
    for (k = 0; k < count && k < 256; ++k) classes[k] = ft_data_class_name(data, k);
    ft_set_class_names(m, k, classes);
}

/* The tokeniser in a model file, for another model. */
static void tokenizer_from_file(ft_model *m, const char *path)
{
    ft_weights_options weights;
    ft_tokenizer_options how;
    ft_file *file;
    memset(&weights, 0, sizeof weights);
    memset(&how, 0, sizeof how);
    file = ft_file_open(m, path, weights);
    if (!file) return;
    how.memory = ft_file_metadata(file, "tokenizer");
    if (how.memory) {
        how.bytes = strlen((const char *)how.memory);
        ft_set_tokenizer(m, ft_tokenizer_load(m, path, how));
    }
    ft_file_close(file);
}

/* The sizes of a language model's embedding and LSTM. */
static void sizes_of_encoder(const ft_model *m, options *o)
{
    char name[64];
    o->features = ft_node_shape(m, ft_find(m, "embedding.weight")).size[1];
    o->hidden = ft_node_shape(m, ft_find(m, "lstm.weight_hh_l0")).size[1];
    o->one_direction = true;
    for (o->layers = 0; o->layers < 99; ++o->layers) {
        snprintf(name, sizeof name, "lstm.weight_hh_l%d", o->layers);
        if (!ft_find(m, name).id) break;
    }
}

/* A classifier on the layers of a language model: the embedding and the LSTM keep their names, so
   their weights load by name, and only the head begins anew. */
static ft_model *classifier_from_language_model(ft_model *language_model, const options *o,
                                                ft_data **data)
{
    options sizes = *o;
    ft_weights_options weights;
    ft_model *m;
    memset(&weights, 0, sizeof weights);
    weights.allow_missing = weights.allow_unexpected = true;
    sizes_of_encoder(language_model, &sizes);
    ft_destroy(language_model);
    if (!(m = create(o))) return NULL;
    tokenizer_from_file(m, o->model);
    open_vocabulary(m, o);
    *data = open_texts(m, o, o->data, false);
    if (ft_error(m)) return m;
    build_classifier(m, &sizes, *data);
    ft_load_weights(m, o->model, weights);
    return m;
}

/* A model that reads text, and its data; which is made first depends on who has the vocabulary. */
static ft_model *open_text_training(ft_model *m, const options *o, ft_data **data)
{
    if (o->model && is_language_model(m) && !wants_language_model(m, o))
        return classifier_from_language_model(m, o, data);
    open_vocabulary(m, o);
    *data = open_texts(m, o, o->data, false);
    if (o->model || ft_error(m)) return m;
    if (wants_language_model(m, o)) build_language_model(m, o);
    else build_classifier(m, o, *data);
    return m;
}

/* ---- The worst mistakes ---- */
enum { MOST_MISTAKES = 100 };

typedef struct mistakes {
    int most, count;
    ft_sample_result worst[MOST_MISTAKES]; /* the surest of what is wrong first */
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
            printf("  %s, taken for %s (%.1f %%): %.300s\n", ft_data_class_name(data, r->label),
                   ft_data_class_name(data, r->guess), 100 * (double)r->probability,
                   ft_data_name(data, r->index));
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
typedef struct printed { bool json; char *text; size_t bytes; } printed;

static bool print_piece(void *user, const char *text, size_t bytes)
{
    printed *p = (printed *)user;
    char *grown;
    if (!p->json) { /* as it comes */
        fwrite(text, 1, bytes, stdout);
        return fflush(stdout) == 0 && !interrupted;
    }
    grown = (char *)realloc(p->text, p->bytes + bytes + 1);
    if (!grown) return false;
    memcpy(grown + p->bytes, text, bytes);
    p->text = grown;
    p->bytes += bytes;
    p->text[p->bytes] = 0;
    return !interrupted;
}

static int generate(const options *o)
{
    ft_generate_options how;
    printed p = {o->json, NULL, 0};
    ft_model *m;
    int count;
    if (!o->model) return usage("generate needs --model", "");
    if (!(m = open_model(o))) return FAILED;
    open_vocabulary(m, o);
    memset(&how, 0, sizeof how);
    how.prompt = o->prompt;
    how.length = o->length;
    how.temperature = (float)o->temperature;
    how.top_k = o->top_k;
    how.top_p = (float)o->top_p;
    how.greedy = o->greedy;
    how.seed = o->seed;
    how.piece = print_piece;
    how.piece_user = &p;
    if (o->prompt && !o->json) printf("%s", o->prompt);
    count = ft_generate(m, how);
    if (ft_error(m)) return report(m);
    if (o->json) {
        printf("{\"tokens\": %d, \"text\": ", count);
        print_json_text(p.text ? p.text : "");
        printf("}");
    }
    printf("\n");
    free(p.text);
    ft_destroy(m);
    return DONE;
}
