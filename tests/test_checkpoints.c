/* test_checkpoints.c - weights as people save them: with an optimiser and numbers, averaged ones
   with the raw ones, with a prefix, tied, with attributes, among tensors of unusual types, in the
   format from before PyTorch 1.6; overlaps and holes are refused. tests/golden/make_checkpoints.py
   made the files. */
#include "check.h"
#include "log.h"
#include "finetune.h"

#define FORMATS "tests/golden/formats/"

static ft_model *new_model(void)
{
    ft_desc desc = {.threads = 1, .log = collect};
    log_text[0] = 0;
    return ft_create(desc);
}

/* x [N, 3] -> "fc" [N, 2], or what else the layer is to be called. */
static ft_model *small_network(const char *layer)
{
    ft_model *m = new_model();
    ft_set_output(m, ft_linear(m, layer, ft_input(m, "x", (ft_input_options){.size = {3}}), 2,
                               (ft_linear_options){0}));
    return m;
}

/* The weights are those that the script writes, plus `more`. */
static void check_weights(ft_model *m, const char *layer, const char *what, float more)
{
    static const float want[8] = {0, .25f, .5f, .75f, 1, 1.25f, -1, 2};
    float got[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    char name[64];
    int i;
    snprintf(name, sizeof name, "%s.weight", layer);
    ft_get(m, ft_find(m, name), got, 6);
    snprintf(name, sizeof name, "%s.bias", layer);
    ft_get(m, ft_find(m, name), got + 6, 2);
    CHECK(ft_error(m) == FT_OK, "%s: %s", what, ft_error_text(m));
    for (i = 0; i < 8; ++i)
        CHECK(CLOSE(got[i], want[i] + more, 0), "%s: %d: %g", what, i, (double)got[i]);
}

static void loads(const char *name, ft_weights_options options, float more, const char *says)
{
    ft_model *m = small_network("fc");
    char path[200];
    snprintf(path, sizeof path, FORMATS "%s", name);
    ft_load_weights(m, path, options);
    check_weights(m, "fc", name, more);
    CHECK(says ? strstr(log_text, says) != NULL : !log_text[0], "%s: log \"%s\", not \"%s\"", name, log_text,
          says ? says : "");
    ft_destroy(m);
}

static void refuses(const char *name, ft_weights_options options, ft_status status, const char *word)
{
    ft_model *m = small_network("fc");
    char path[200];
    snprintf(path, sizeof path, FORMATS "%s", name);
    CHECK(ft_load_weights(m, path, options) == status && strstr(ft_error_text(m), name)
          && strstr(ft_error_text(m), word), "%s: %s: \"%s\"", name,
          ft_status_name(ft_error(m)), ft_error_text(m));
    ft_destroy(m);
}

static void test_pytorch(void)
{
    ft_weights_options plain = {0}, other = {0}, named = {0}, unexpected = {.allow_unexpected = true};
    loads("ckpt_beside.pt", plain, 0, NULL);
    loads("ckpt_nested.pt", plain, 0, NULL);
    loads("ckpt_ema.pt", plain, 0, "\"model\" are loaded; the file also has model_ema");
    other.state_dict = "model_ema";
    loads("ckpt_ema.pt", other, 100, NULL);
    loads("ckpt_ema_only.pt", plain, 0, NULL);
    named.state_dict = "generator";
    loads("ckpt_two.pt", named, 0, NULL);
    refuses("ckpt_two.pt", plain, FT_INVALID, "generator (2 tensors), discriminator (2 tensors)");
    refuses("ckpt_two.pt", other, FT_INVALID, "model_ema");
    loads("ckpt_compiled.pt", plain, 0, "\"_orig_mod.module.\"");
    loads("ckpt_wrapped.pt", plain, 0, "\"backbone.encoder.\"");
    loads("ckpt_attributes.pt", plain, 0, NULL);
    loads("ckpt_types.pt", unexpected, 0, "sparse");
    refuses("ckpt_types.pt", plain, FT_MISMATCH, "10 tensors are not in the network");
    refuses("ckpt_module.pt", plain, FT_FORMAT, "state_dict()");
    refuses("ckpt_legacy_module.pt", plain, FT_FORMAT, "state_dict()");
    refuses("ckpt_script.pt", plain, FT_UNSUPPORTED, "TorchScript");
    refuses("ckpt_partly.pt", plain, FT_MISMATCH, "rename \"backbone.=\" would match it");
}

static void test_safetensors(void)
{
    ft_weights_options plain = {0}, unexpected = {.allow_unexpected = true}, named = {0};
    loads("ckpt_wrapped.safetensors", plain, 0, "\"backbone.encoder.\"");
    loads("ckpt_module.safetensors", plain, 0, "\"module.\"");
    loads("ckpt_types.safetensors", unexpected, 0, "u16");
    named.state_dict = "model";
    refuses("ckpt_module.safetensors", named, FT_INVALID, "no effect");
}

/* Names that the network has as they are keep their prefix; one word of two may be enough. */
static void test_prefix(void)
{
    static const char *const layers[] = {"fc", "encoder.fc", "backbone.encoder.fc"};
    size_t i;
    for (i = 0; i < 3; ++i) {
        ft_model *m = small_network(layers[i]);
        ft_load_weights(m, FORMATS "ckpt_wrapped.pt", (ft_weights_options){0});
        check_weights(m, layers[i], layers[i], 0);
        CHECK((log_text[0] == 0) == (i == 2), "%s: %s", layers[i], log_text);
        ft_destroy(m);
    }
    {
        ft_model *m = small_network("head");
        ft_load_weights(m, FORMATS "ckpt_compiled.pt", (ft_weights_options){.rename = "fc.=head."});
        check_weights(m, "head", "a rule behind a prefix", 0);
        CHECK(!strstr(log_text, "no name in it"), "%s", log_text);
        ft_destroy(m);
        m = small_network("net.fc");
        CHECK(ft_load_weights(m, FORMATS "ckpt_beside.pt", (ft_weights_options){0}) == FT_MISMATCH
              && strstr(ft_error_text(m), "rename \"=net.\" would match it"), "%s",
              ft_error_text(m));
        ft_destroy(m);
    }
}

static void check_tensor(ft_model *m, ft_file *file, const char *name, const float *want, size_t count)
{
    float got[8] = {0};
    int index = ft_file_find(file, name);
    CHECK(index >= 0 && ft_file_read_f32(file, index, got, count) == FT_OK
          && !memcmp(got, want, count * sizeof *want), "%s: %g %g: %s", name, (double)got[0],
          (double)got[1], ft_error_text(m));
}

static void test_types(void)
{
    static const float u16[] = {1, 65535}, u32[] = {7}, u64[] = {1099511627776.0f};
    static const float e4m3[] = {1.5f, -0.001953125f}, e5m2[] = {-3, .25f}, repeated[] = {2.5f, 2.5f, 2.5f};
    static const char *const files[] = {"ckpt_types.pt", "ckpt_types.safetensors"};
    static const char *const others[] = {"e8m0", "complex", "sparse", "quantized"};
    int i, k;
    for (i = 0; i < 2; ++i) {
        ft_model *m = new_model();
        char path[200];
        ft_file *file;
        snprintf(path, sizeof path, FORMATS "%s", files[i]);
        file = ft_file_open(m, path, (ft_weights_options){0});
        CHECK(file, "%s: %s", path, ft_error_text(m));
        if (!file) continue;
        check_tensor(m, file, "u16", u16, 2);
        check_tensor(m, file, "u32", u32, 1);
        check_tensor(m, file, "u64", u64, 1);
        check_tensor(m, file, "e4m3", e4m3, 2);
        check_tensor(m, file, "e5m2", e5m2, 2);
        if (i == 0) check_tensor(m, file, "repeated", repeated, 3);
        for (k = 0; k < (i == 0 ? 4 : 1); ++k) {
            int index = ft_file_find(file, others[k]);
            ft_tensor_info info = ft_file_tensor(file, index);
            float got[8];
            size_t count = 1;
            int d;
            for (d = 0; d < info.shape.rank; ++d) count *= (size_t)info.shape.size[d];
            CHECK(index >= 0 && info.type == FT_OTHER && info.type_name, "%s: listed", others[k]);
            CHECK(ft_file_read_f32(file, index, got, count) == FT_UNSUPPORTED
                  && strstr(ft_error_text(m), others[k]), "%s: %s", others[k], ft_error_text(m));
            ft_clear_error(m);
        }
        ft_file_close(file);
        ft_destroy(m);
    }
}

static void test_legacy(void)
{
    static const float part[] = {.5f, .75f, 1}, turned[] = {0, .75f, .25f, 1, .5f, 1.25f};
    static const float half[] = {0, .25f, .5f, .75f, 1, 1.25f};
    ft_model *m = new_model();
    ft_file *file = ft_file_open(m, FORMATS "ckpt_legacy.pt", (ft_weights_options){0});
    CHECK(file && ft_file_count(file) == 6, "%s", ft_error_text(m));
    if (file) {
        check_tensor(m, file, "fc.weight", half, 6);
        check_tensor(m, file, "part", part, 3);
        check_tensor(m, file, "turned", turned, 6);
        check_tensor(m, file, "half", half, 6);
        check_tensor(m, file, "tied", half, 6);
    }
    ft_file_close(file);
    ft_destroy(m);
    loads("ckpt_legacy.pt", (ft_weights_options){.allow_unexpected = true}, 0, "turned");
}

/* One weight under two names stays one: in the network that is made, and where it is trained on. */
static void test_tied(void)
{
    static const char *const files[] = {FORMATS "ckpt_tied.pt", FORMATS "ckpt_tied.safetensors"};
    int i;
    for (i = 0; i < 2; ++i) {
        ft_model *m = new_model(), *untied = new_model();
        ft_network_options network = {.words = 5, .embedding = 4, .hidden = 4, .layers = 1};
        CHECK(ft_load(m, files[i], (ft_load_options){0}) == FT_OK, "%s: %s", files[i],
              ft_error_text(m));
        CHECK(ft_find(m, "embedding.weight").id && !ft_find(m, "decoder.weight").id,
              "%s: the decoder has a weight of its own", files[i]);
        ft_network(untied, "lstm_lm", network); /* each its own, where that is what was built */
        CHECK(ft_load_weights(untied, files[i], (ft_weights_options){0}) == FT_OK, "%s: %s",
              files[i], ft_error_text(untied));
        ft_destroy(untied);
        ft_destroy(m);
    }
}

/* ---- safetensors whose data does not fit: no byte is of two tensors, or of none ---- */

static void layout(const char *header, size_t data, const char *word)
{
    unsigned char bytes[600] = {0};
    size_t length = strlen(header), k;
    ft_weights_options options = {.memory = bytes, .bytes = 8 + length + data};
    ft_model *m = new_model();
    ft_file *file;
    for (k = 0; k < 8; ++k) bytes[k] = (unsigned char)((unsigned long long)length >> (8 * k));
    memcpy(bytes + 8, header, length);
    file = ft_file_open(m, NULL, options);
    CHECK(word ? !file && ft_error(m) == FT_FORMAT && strstr(ft_error_text(m), word) : file != NULL,
          "%s: \"%s\"", header, ft_error_text(m));
    ft_file_close(file);
    ft_destroy(m);
}

#define T(name, type, shape, from, to) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"

static void test_layout(void)
{
    layout("{" T("a", "F32", "2", "0", "8") "," T("b", "F32", "1", "8", "12") "}", 12, NULL);
    layout("{" T("b", "F32", "1", "8", "12") "," T("a", "F32", "2", "0", "8") "}", 12, NULL);
    layout("{" T("a", "F32", "2", "0", "8") "," T("b", "F32", "1", "4", "8") "}", 8, "overlaps");
    layout("{" T("a", "F32", "2", "0", "8") "," T("b", "F32", "2", "0", "8") "}", 8, "overlaps");
    layout("{" T("a", "F32", "1", "4", "8") "}", 8, "4 bytes between the header and tensor a");
    layout("{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "8", "12") "}", 12,
           "4 bytes between a and tensor b");
    layout("{" T("a", "F32", "1", "0", "4") "}", 8, "4 bytes after the last tensor, a");
    layout("{" T("a", "F32", "0", "0", "0") "," T("b", "F32", "0,3", "0", "0") "}", 0, NULL);
    layout("{" T("a", "F32", "1", "0", "4") "," T("a", "F32", "1", "4", "8") "}", 8, "two tensors");
    layout("{" T("a", "F4", "3", "0", "2") "}", 2, NULL);
    layout("{" T("a", "F32", "3", "0", "2") "}", 2, "do not fit");
}

int main(void)
{
    test_pytorch();
    test_safetensors();
    test_prefix();
    test_types();
    test_legacy();
    test_tied();
    test_layout();
    return check_done("test_checkpoints");
}
