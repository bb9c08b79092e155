/* make_corpus.c - writes what the fuzzers start from, tests/fuzz/corpus/TARGET/NAME: small files of
   each format and graphs with every operator. From the repository's root:
       cc -std=c99 -I. tests/fuzz/make_corpus.c build/finetune.o -o build/make_corpus -lm -pthread
       build/make_corpus
   What PyTorch wrote is in tests/golden/formats, Hugging Face's tokenisers in tests/golden/tokenizers. */
#include "targets.c"
#include <sys/stat.h>
#include <sys/types.h>

static void put_file(const char *target, const char *name, const void *bytes, size_t count)
{
    char path[200];
    FILE *file;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target);
    mkdir("tests/fuzz/corpus", 0777);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", target, name);
    file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        fprintf(stderr, "%s cannot be written\n", path);
        exit(1);
    }
}

static void put_text(const char *target, const char *name, const char *text)
{
    put_file(target, name, text, strlen(text));
}

/* The graph of a model, as ft_save writes it. */
static void put_graph(ft_model *m, const char *name)
{
    ft_model *reader = new_model();
    ft_save_options save;
    ft_weights_options from;
    ft_file *file;
    memset(&save, 0, sizeof save);
    memset(&from, 0, sizeof from);
    ft_save(m, "saved.safetensors", save);
    from.memory = written;
    from.bytes = written_size;
    file = ft_file_open(reader, "in", from);
    if (ft_error(m) || !file) {
        fprintf(stderr, "%s: %s %s\n", name, ft_error_text(m), ft_error_text(reader));
        exit(1);
    }
    put_text("graph", name, ft_file_metadata(file, "finetune"));
    if (written_size < 6000) put_file("safetensors", name, written, written_size);
    ft_file_close(file);
    ft_destroy(reader);
    ft_destroy(m);
}

static ft_node input(ft_model *m, const char *name, ft_type type, int a, int b, int c)
{
    ft_input_options o;
    memset(&o, 0, sizeof o);
    o.type = type;
    o.size[0] = a;
    o.size[1] = b;
    o.size[2] = c;
    return ft_input(m, name, o);
}

static void finish(ft_model *m, ft_node logits, const char *name)
{
    ft_loss_options loss;
    memset(&loss, 0, sizeof loss);
    ft_set_output(m, logits);
    ft_set_loss(m, ft_cross_entropy(m, "loss", logits, input(m, "labels", FT_I32, 0, 0, 0), loss));
    put_graph(m, name);
}

/* Everything for pictures. */
static void pictures(void)
{
    ft_model *m = new_model();
    ft_conv2d_options conv;
    ft_pool2d_options pool;
    ft_batch_norm_options norm;
    ft_linear_options none;
    ft_pad_options pad;
    ft_slice_options slice;
    ft_dropout_options dropout;
    ft_activation_options act;
    ft_node x = input(m, "input", FT_F32, 3, 6, 6), y, both[2];
    memset(&conv, 0, sizeof conv);
    memset(&pool, 0, sizeof pool);
    memset(&norm, 0, sizeof norm);
    memset(&none, 0, sizeof none);
    memset(&pad, 0, sizeof pad);
    memset(&slice, 0, sizeof slice);
    memset(&dropout, 0, sizeof dropout);
    memset(&act, 0, sizeof act);
    conv.kernel[0] = 3;
    conv.padding[0] = conv.padding[1] = conv.padding[2] = conv.padding[3] = 1;
    x = ft_activation(m, "relu", "relu", ft_batch_norm(m, "bn", ft_conv2d(m, "conv", x, 4, conv),
                                                       norm), act);
    conv.groups = 4;
    y = ft_activation(m, "relu6", NULL, ft_conv2d(m, "depthwise", x, 4, conv), act);
    x = ft_mul(m, "mul", ft_add(m, "add", x, y), y);
    pool.kernel[0] = pool.stride[0] = 2;
    both[0] = ft_max_pool2d(m, "max", x, pool);
    both[1] = ft_avg_pool2d(m, "avg", x, pool);
    x = ft_concat(m, "cat", 2, both, 1);
    pad.before[1] = 1;
    x = ft_pad(m, "pad", x, pad);
    slice.start[1] = 1;
    x = ft_slice(m, "slice", x, slice);
    x = ft_dropout(m, "drop", ft_flatten(m, "flat", x), dropout);
    finish(m, ft_linear(m, "fc", x, 2, none), "pictures");
}

/* Everything for sequences: attention over embedded tokens, then a recurrent layer. */
static void sequences(const char *cell)
{
    ft_model *m = new_model();
    ft_embedding_options embedding;
    ft_linear_options linear;
    ft_layer_norm_options norm;
    ft_matmul_options product;
    ft_activation_options none;
    ft_recurrent_options recurrent;
    ft_step_pool_options pool;
    ft_node tokens = input(m, "tokens", FT_I32, FT_LENGTH, 0, 0);
    ft_node lengths = input(m, "lengths", FT_I32, 0, 0, 0), x, scores;
    memset(&embedding, 0, sizeof embedding);
    memset(&linear, 0, sizeof linear);
    memset(&norm, 0, sizeof norm);
    memset(&product, 0, sizeof product);
    memset(&none, 0, sizeof none);
    memset(&recurrent, 0, sizeof recurrent);
    memset(&pool, 0, sizeof pool);
    x = ft_embedding(m, "embedding", tokens, 6, 4, embedding);
    x = ft_layer_norm(m, "norm", x, norm);
    product.transpose_b = true;
    scores = ft_matmul(m, "scores", ft_linear(m, "q", x, 4, linear), ft_linear(m, "k", x, 4, linear),
                       product);
    product.transpose_b = false;
    x = ft_matmul(m, "mixed", ft_activation(m, "softmax", "softmax", scores, none), x, product);
    recurrent.layers = 2;
    recurrent.bidirectional = true;
    x = *cell == 'l' ? ft_lstm(m, "rnn", x, 3, recurrent) : *cell == 'g'
        ? ft_gru(m, "rnn", x, 3, recurrent) : ft_rnn(m, "rnn", x, 3, recurrent);
    x = ft_step_pool(m, "pool", x, lengths, pool);
    finish(m, ft_linear(m, "fc", x, 2, linear), cell);
}

static void networks(void)
{
    static const char *const names[] = {"keras_cnn", "lstm_classifier", "char_rnn"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; ++i) {
        ft_network_options o;
        ft_model *m = new_model();
        memset(&o, 0, sizeof o);
        o.classes = 2;
        if (i == 0) o.image_size = 48;
        else {
            o.words = 6;
            o.embedding = o.hidden = 3;
        }
        ft_network(m, names[i], o);
        put_graph(m, names[i]);
    }
}

static void texts(void)
{
    static const uint8_t tok512[] = {4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 128, 191, 1, 0, 0,
        0, 'b', 0, 0, 0, 192, 2, 0, 0, 0, 'a', 'b', 0, 0, 64, 192, 1, 0, 0, 0, ' '};
    put_file("tokenizer", "tok512", tok512, sizeof tok512);
    put_text("tokenizer", "wordpiece", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlow\n##er\n##est\nnew\nthe\n");
    put_text("tokenizer", "characters", "[\"a\",\"b\",\"c\",\" \",\"\\n\",\"\\u00e9\",\"\\ud83d\\ude00\"]");
    put_text("tokenizer", "bpe", "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4,\"\\u0120\":5}#version: 0.2\n"
             "a b\nab c\n");
    put_text("tokenizer", "wordpiece.json", "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":0,\"content\":"
             "\"[UNK]\",\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
             "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\","
             "\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"[UNK]\":0,\"a\":1,"
             "\"##b\":2}}}");
    put_text("tokenizer", "wrong_id.json", /* 33 was written behind the memory for 15 ids */
             "{\"added_tokens\":[{\"id\":15,\"content\":\"[UNK]\"}],\"normalizer\":{\"type\":"
             "\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":"
             "\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":33,\"a\":1,\"##b\":1e-9}}}");
    put_text("tokenizer", "bpe.json", "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
             "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}");
    put_text("tokenize", "words", "\x30The low, lowest.\n7 caf\xc3\xa9s \xf0\x9f\x98\x80 \xe4\xbd\xa0");
    put_text("tokenize", "characters", "\x31newer\tnewest \xc3\xa9\xcc\x81");
    put_text("tokenize", "wordpiece", "\x32the LOWEST newer a.b,c \xe4\xbd\xa0\xe5\xa5\xbd");
    put_text("tokenize", "bpe", "\x33 low lower's  \n new <|endoftext|> \xff");
    put_text("table", "tsv", "ttext\tlabel\ngood film\tpos\nbad film\tneg\nfine\tpos\n\xc3\xa9t\xc3\xa9\tneg\n");
    put_text("table", "csv", "ctext,label\n\"good, \"\"very\"\" good\nfilm\",1\r\nbad,0\r\n\"\",1\r\nfine,0\r\n");
    put_text("table", "jsonl", "j{\"text\":\"good \\u00e9\\n\",\"label\":1}\n{\"text\":\"bad\",\"label\":0}\n"
             "{\"text\":\"x\",\"label\":true,\"more\":[1,{\"a\":null}]}\n");
    put_text("table", "conll", "b-DOCSTART- O\n\nAda\tNN\tB-person\nB.\tNN\tI-person\n\t\nin O\r\nRome I-place\n"
             "\xc3\xa9t\xc3\xa9 B-place");
    put_text("table", "plain", "tgood film\tpos\nbad film\tneg\nfine\tpos\n");
}

/* Colours of a picture of 8 x 8, as rows from the top. */
static uint8_t colour(int i) { return (uint8_t)(i * 37 + i * i); }

static void picture_files(void)
{
    uint8_t file[1024];
    static const uint8_t bmp[54] = {'B', 'M', 246, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 8,
        0, 0, 0, 8, 0, 0, 0, 1, 0, 24};
    static const uint8_t tga[18] = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 8, 0, 32, 8};
    static const uint8_t gif[] = {'G', 'I', 'F', '8', '9', 'a', 2, 0, 2, 0, 128, 0, 0, 0, 0, 0, 255,
        255, 255, 33, 249, 4, 1, 0, 0, 0, 0, 44, 0, 0, 0, 0, 2, 0, 2, 0, 0, 2, 3, 68, 2, 5, 0, 59};
    int i, size;
    memcpy(file, bmp, sizeof bmp);
    for (i = 0; i < 192; ++i) file[54 + i] = colour(i);
    put_file("picture", "bmp", file, 54 + 192);
    memcpy(file, tga, sizeof tga);
    for (i = 0; i < 256; ++i) file[18 + i] = colour(i);
    put_file("picture", "tga", file, 18 + 256);
    put_file("picture", "gif", gif, sizeof gif);
    size = snprintf((char *)file, sizeof file, "P6\n8 8\n255\n");
    for (i = 0; i < 192; ++i) file[size + i] = colour(i);
    put_file("picture", "ppm", file, (size_t)size + 192);
    size = snprintf((char *)file, sizeof file, "P5\n# grey\n8 8\n255\n");
    for (i = 0; i < 64; ++i) file[size + i] = colour(i);
    put_file("picture", "pgm", file, (size_t)size + 64);
}

/* The index and the data of tests/golden/make_bundles.py, as run_bundle takes them. */
static void bundle(const char *name)
{
    static uint8_t bytes[1 << 16];
    char path[200];
    size_t count = 2, index = 0;
    FILE *file;
    int i;
    for (i = 0; i < 2; ++i) {
        snprintf(path, sizeof path, "tests/golden/formats/%s%s", name, i ? ".data-00000-of-00001" : ".index");
        file = fopen(path, "rb");
        if (!file) exit(1);
        count += fread(bytes + count, 1, sizeof bytes - count, file);
        fclose(file);
        if (i == 0) index = count - 2;
    }
    bytes[0] = (uint8_t)(index & 255);
    bytes[1] = (uint8_t)(index >> 8);
    put_file("bundle", name, bytes, count);
}

int main(void)
{
    bundle("tf2");
    bundle("tf_same");
    pictures();
    sequences("lstm");
    sequences("gru");
    sequences("rnn");
    networks();
    texts();
    picture_files();
    run_checkpoint((const uint8_t *)"", 0);
    put_file("checkpoint", "last", written, written_size);
    return 0;
}
