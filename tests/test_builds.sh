#!/bin/sh
# The header compiles, links and runs a small program in every way that it promises: compilers,
# languages, without SIMD, without threads, two units, beside FreeType.
passed=0 failed=0 skipped=0
out=build/builds
mkdir -p $out
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
# GCC looks up the line of each `if` of a C file of this size for -Wmisleading-indentation: 7 of the 8
# seconds that reading the header takes. The first builds ask for it; those that read the same code
# once more need not.
again="$warnings -Wno-misleading-indentation"

# try NAME COMMAND...: the command must succeed
try() {
    name=$1; shift
    if "$@" >$out/log.txt 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name: $*"; head -20 $out/log.txt; fi
}
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
have() { command -v "$1" >/dev/null 2>&1; }

# A program that uses a little of everything, as C99 and as C++11.
cat >$out/use.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
int main(void)
{
    ft_desc desc;
    ft_input_options picture;
    ft_network_options options;
    float logits[10], values[3 * 32 * 32];
    ft_model *m;
    int i, status;
    memset(&desc, 0, sizeof desc);
    memset(&picture, 0, sizeof picture);
    memset(&options, 0, sizeof options);
    for (i = 0; i < 3 * 32 * 32; ++i) values[i] = (float)(i % 7) - 3.0f;
    m = ft_create(desc);
    ft_network(m, "resnet20", options);
    ft_run(m, values, 1, logits, 10);
    status = ft_error(m) != FT_OK || !(logits[0] - logits[0] == 0);
    if (status) printf("%s\n", ft_error_text(m));
    ft_destroy(m);
    return status;
}
END
cp $out/use.c $out/use.cpp

# Each compiler and standard, one of the two with OpenCL, which needs nothing to be linked. GCC, G++
# and Clang++ make one program each, which runs; of another standard they read the code and warn,
# which takes 1 second instead of 12, and so does Clang. LONG=1 makes and runs them all.
if [ -e /usr/include/CL/cl.h ]; then opencl=-DFINETUNE_OPENCL
else opencl=; skip "OpenCL's headers are not installed"; fi
for compiler in gcc clang g++ clang++; do
    have $compiler || { skip "$compiler is not installed"; continue; }
    case $compiler in
    *++) source=use.cpp; standards="c++11 c++20" ;;
    *) source=use.c; standards="c99 c11"
        try "$compiler declarations only" $compiler -std=c99 $warnings -x c -fsyntax-only finetune.h ;;
    esac
    for standard in $standards; do
        case $standard in c11 | c++20) with=$opencl ;; *) with= ;; esac
        case $compiler$standard in
        g++c++20 | clangc11) [ -n "$LONG" ] || continue ;;
        esac
        case $compiler$standard in
        gccc11 | clangc99 | clang++c++11)
            if [ -z "$LONG" ]; then
                try "$compiler $standard $with" $compiler -std=$standard $warnings $with -I. -fsyntax-only $out/$source
                continue
            fi ;;
        esac
        # LONG=1: as users build it; g++ warns of more when it optimises, and takes 30 seconds. GCC
        # without SIMD: 6 seconds instead of 17; with it make has built the library already.
        level="-O0 -DFINETUNE_NO_SIMD"
        case $compiler in clang*) level=-O0 ;; esac
        [ -n "$LONG" ] && level=-O2
        try "$compiler $standard $with" $compiler -std=$standard $warnings $with $level -I. $out/$source -o $out/use -lm -pthread
        try "$compiler $standard $with runs" $out/use
    done
done

# From here on scalar where SIMD is not the point: its kernels are most of what the compiler does.
try "FINETUNE_NO_THREADS with SIMD" ${CC:-cc} -std=c99 $again -DFINETUNE_NO_THREADS -I. -fsyntax-only $out/use.c
for macro in "FINETUNE_NO_THREADS -DFINETUNE_NO_SIMD" FINETUNE_NO_SIMD "FINETUNE_NO_POSIX -DFINETUNE_NO_SIMD"; do
    [ -z "$LONG" ] && [ "$macro" = FINETUNE_NO_SIMD ] && have gcc && continue # was that of GCC above
    try "$macro" ${CC:-cc} -std=c99 $warnings -D$macro -O0 -I. $out/use.c -o $out/use -lm -pthread
    try "$macro runs" $out/use
done
if [ -n "$LONG" ]; then # the same as PyTorch, too
    try "test_golden without SIMD" ${CC:-cc} -std=c99 $again -DFINETUNE_NO_SIMD -O1 -I. tests/test_golden.c -o $out/golden -lm -pthread
    try "test_golden without SIMD runs" $out/golden
fi

# Windows' headers define words such as far, near, small, min, max and interface as macros: none of
# them may stand in ours as a name. This stand-in has also those that only some versions bring; the
# system's own headers are read before it. Where mingw is installed, the true one comes first.
{
    for header in float limits math stdarg stdbool stddef stdint stdio stdlib string dirent errno \
        fcntl pthread sched sys/mman sys/stat time unistd; do echo "#include <$header.h>"; done
    printf '#ifdef __x86_64__\n#include <immintrin.h>\n#endif\n'
    [ -n "$opencl" ] && printf '#define CL_TARGET_OPENCL_VERSION 120\n#include <CL/cl.h>\n#include <dlfcn.h>\n'
    for word in far near FAR NEAR huge HUGE pascal cdecl PASCAL CDECL IN OUT OPTIONAL; do
        printf '#undef %s\n#define %s\n' $word $word
    done
    for word in "small char" "hyper long" "interface struct" "CONST const" "VOID void" \
        "THIS void" "THIS_ void," "STRICT 1" "ERROR 0" "NO_ERROR 0" "DELETE 1" "DIFFERENCE 11" \
        "IGNORE 0" "INFINITE 1" "ABSOLUTE 1" "RELATIVE 2" "TRUE 1" "FALSE 0" "BOOL int" \
        "RGB(r,g,b) 0" "TEXT(text) L##text" "GetMessage GetMessageA" "LoadImage LoadImageA" \
        "CreateFile CreateFileA" "DrawText DrawTextA" "s_net S.a" "s_host S.b" "rad1 1" "grp1 2" \
        "frm1 3" "rct1 4" "ico1 5" "stc1 6" "lst1 7" "cmb1 8" "edt1 9" "scr1 10" \
        "min(a,b) (((a)<(b))?(a):(b))" "max(a,b) (((a)>(b))?(a):(b))"; do
        echo "#define $word"
    done
} >$out/windows.h
mingw=x86_64-w64-mingw32-gcc
for language in c c++; do
    { echo '#include "windows.h"'; cat $out/use.c; } >$out/windows_use.c
    case $language in c) standard=c99 ;; *) standard=c++11 ;; esac
    have g++ || [ $language = c ] || { skip "g++ is not installed"; continue; }
    try "windows.h first, $standard" ${CC:-cc} -x $language -std=$standard $again $opencl -I. -fsyntax-only $out/windows_use.c
    if have ${mingw%gcc}g++ || { have $mingw && [ $language = c ]; }; then
        try "mingw's windows.h first, $standard" $mingw -x $language -std=$standard $again -include windows.h -I. -fsyntax-only $out/use.c
    else skip "mingw is not installed ($standard)"; fi
done

# Other systems' C libraries have other formats for sizes and 64-bit numbers: those are printed by
# ourselves, exactly as here, and never handed to snprintf.
if grep -nE '(^|[^_a-z])v?snprintf[(].*%[0-9*.-]*(z|ll)[dux]' finetune.h; then
    failed=$((failed + 1)); echo "FAILED: sizes and 64-bit numbers go through ft__print"
else passed=$((passed + 1)); fi
cat >$out/print.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
static int failed;
#define SAME(size, ...)                                                                            \
    do {                                                                                           \
        char got[80], want[80];                                                                    \
        int a, b;                                                                                  \
        memset(got, 'x', sizeof got);                                                              \
        memset(want, 'x', sizeof want);                                                            \
        a = ft__print(got, size, __VA_ARGS__);                                                     \
        b = snprintf(want, size, __VA_ARGS__);                                                     \
        if (a == b && !memcmp(got, want, sizeof got)) continue;                                    \
        failed = 1;                                                                                \
        printf("line %d: %d \"%.79s\", not %d \"%.79s\"\n", __LINE__, a, got, b, want);            \
    } while (0)
int main(void)
{
    const char *text = "letters";
    size_t size;
    for (size = 0; size < 80; ++size) {
        SAME(size, "%d %d %d%%", 0, INT_MIN, INT_MAX);
        SAME(size, "%u %u %x %X", 0u, UINT_MAX, UINT_MAX, 0xabcdefu);
        SAME(size, "%ld %ld %lu %lx", 0l, LONG_MIN, ULONG_MAX, ULONG_MAX);
        SAME(size, "%lld %lld", LLONG_MIN, LLONG_MAX);
        SAME(size, "%llu %llx", ULLONG_MAX, ULLONG_MAX);
        SAME(size, "%zu %zu of %s", (size_t)0, SIZE_MAX, text);
        SAME(size, "%016llx|%04x|%02X|%3d|%03d|%12llu", 0xfedull, 7u, 10u, -5, -5, 99ull);
        SAME(size, "%s %.3s %.*s %8s %c", text, text, 2, text, text, 'y');
        SAME(size, "%g %.9g %.1f %.3g %e", 0.1, 1.0 / 3, 2.25, 1e20, -1e-300);
    }
    return failed;
}
END
try "ft__print" ${CC:-cc} -std=c99 $again -DFINETUNE_NO_SIMD -O0 -I. $out/print.c -o $out/print -lm -pthread
try "ft__print prints what snprintf does" $out/print

# LONG=1: the main programs in another way than make test has them.
internals= # flags of the tests that include the implementation
round() { # NAME COMPILER FLAGS...
    way=$1; shift
    try "$way: the library" "$@" -std=c99 -I. -c tests/fuzz/library.c -o $out/library.o
    for test in attention cache data edges elementary fit formats gemm golden levels memory networks \
        operators prediction sequences text text_train tokenizers weights zip; do
        grep -q '^.include "internals.h"\|^.define FINETUNE_IMPLEMENTATION' tests/test_$test.c && own=$internals ||
            own=$out/library.o
        try "$way: test_$test builds" "$@" -std=c99 -I. tests/test_$test.c $own -o $out/round -lm -pthread
        try "$way: test_$test" env FINETUNE_CACHE=none $out/round
    done
}
if [ -n "$LONG" ]; then # as users compile it
    for compiler in gcc clang; do have $compiler && round "$compiler -O2" $compiler -O2 -g1; done
fi

# 32 bits: the code is read; LONG=1 runs the tests, too. GCC takes no SIMD here by itself, for it
# computes in the old registers of 80 bits.
for compiler in gcc clang; do
    if have $compiler && echo 'int main(void) { return 0; }' | $compiler -m32 -x c - -o $out/small 2>/dev/null; then
        for more in -std=c99 "-std=c99 -msse2 -mfpmath=sse" "-x c++ -std=c++11"; do
            [ -n "$LONG" ] || [ "$more" = -std=c99 ] || continue
            try "$compiler -m32 $more" $compiler -m32 $more $again $opencl -I. -fsyntax-only $out/use.c
        done
        # clang's implementation is compiled for SSE2, and what is inlined from it must be, too.
        [ $compiler = clang ] && internals=-msse2
        [ -n "$LONG" ] && round "$compiler -m32" $compiler -m32 -O1 -g1
        internals=
    else skip "$compiler -m32 cannot link: its libraries are not installed"; fi
done

# Windows' programs, built by mingw and run by Wine.
wine=
for place in wine64 wine /usr/lib/wine/wine64; do have $place && { wine=$place; break; }; done
if [ -n "$LONG" ] && have $mingw; then
    cat >$out/files.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
/* Builds, saves twice over the same name, which Windows' rename() refuses, and loads. */
int main(int count, char **word)
{
    ft_desc desc;
    ft_network_options network;
    ft_save_options save;
    ft_load_options load;
    ft_model *m[2];
    float values[3 * 32 * 32] = {1, 2, 3}, logits[2][10];
    int i, status;
    memset(&desc, 0, sizeof desc);
    memset(&network, 0, sizeof network);
    memset(&save, 0, sizeof save);
    memset(&load, 0, sizeof load);
    if (count < 2) return 2;
    m[0] = ft_create(desc);
    m[1] = ft_create(desc);
    ft_network(m[0], "resnet20", network);
    ft_save(m[0], word[1], save);
    ft_save(m[0], word[1], save);
    ft_load(m[1], word[1], load);
    for (i = 0; i < 2; ++i) ft_run(m[i], values, 1, logits[i], 10);
    status = ft_error(m[0]) || ft_error(m[1]) || memcmp(logits[0], logits[1], sizeof logits[0]);
    if (status) printf("%s\n%s\n", ft_error_text(m[0]), ft_error_text(m[1]));
    ft_destroy(m[0]);
    ft_destroy(m[1]);
    return status;
}
END
    try "mingw builds another" $mingw -std=c99 $again -O1 -DFINETUNE_NO_SIMD -I. $out/files.c -o $out/files.exe
    try "mingw builds a program" $mingw -std=c99 $again -O1 -I. $out/use.c -o $out/use.exe
    if [ -n "$wine" ]; then
        export WINEPREFIX="$PWD/$out/wine" WINEDEBUG=-all
        try "a program runs in Wine" $wine $out/use.exe
        try "a model is saved there twice and read again" sh -c "$wine $out/files.exe $out/saved.safetensors"
    else skip "Wine is not installed"; fi
fi

# What was left out says so; what was not still works (use.c builds a ResNet by name).
cat >$out/without.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
int main(int count, char **word)
{
    ft_desc desc;
    ft_load_options load;
    ft_network_options network;
    ft_text_options texts;
    ft_model *m;
    bool said;
    memset(&desc, 0, sizeof desc);
    memset(&load, 0, sizeof load);
    memset(&network, 0, sizeof network);
    memset(&texts, 0, sizeof texts);
    if (count < 4) return 2;
    m = ft_create(desc);
    if (strstr(word[1], ".pt")) ft_load(m, word[1], load);
    else if (strstr(word[1], ".tsv")) ft_texts(m, word[1], texts);
    else ft_network(m, word[1], network);
    said = (int)ft_error(m) == atoi(word[2]) && strstr(ft_error_text(m), word[3]);
    if (!said) printf("%d %s\n", (int)ft_error(m), ft_error_text(m));
    ft_destroy(m);
    return said ? 0 : 1;
}
END
cp $out/without.c $out/without.cpp
left_out() { # MACRO NAME STATUS TEXT: with the macro, loading or building NAME gives the status
    try "$1" ${CC:-cc} -std=c99 $again -D$1 -DFINETUNE_NO_SIMD -O0 -I. $out/without.c -o $out/without -lm -pthread
    try "$1 says so" $out/without "$2" "$3" "$4"
    if have g++; then
        try "$1 in C++" g++ -std=c++11 $warnings -D$1 -I. -fsyntax-only $out/without.cpp
    fi
}
left_out FINETUNE_NO_PYTORCH tests/golden/formats/plain.pt 8 FINETUNE_NO_PYTORCH
if [ -n "$LONG" ]; then
    left_out FINETUNE_NO_RESNET resnet18 1 "it must be one of mobilenet_v1, keras_cnn"
    left_out FINETUNE_NO_MOBILENET mobilenet_v1 1 "unknown network"
    left_out FINETUNE_NO_KERAS_CNN keras_cnn 1 "unknown network"
    left_out FINETUNE_NO_RECURRENT lstm_classifier 1 "unknown network"
    left_out FINETUNE_NO_TEXT examples/text/reviews.tsv 8 FINETUNE_NO_TEXT
    echo "of no known format" >$out/unknown.pt
    left_out FINETUNE_NO_KERAS $out/unknown.pt 8 "Keras is left out (FINETUNE_NO_KERAS)"
    left_out FINETUNE_NO_ONNX $out/unknown.pt 8 "ONNX is left out (FINETUNE_NO_ONNX)"
fi

# Each switch alone, read and warned of, without LONG=1 some of them; what needs another one goes with it.
families="TRAINING DATA IMAGES TEXT CONVOLUTION DEPTHWISE RECURRENT ATTENTION ARITHMETIC RESNET MOBILENET KERAS_CNN
    TRANSFORMERS PYTORCH ONNX KERAS NUMPY TENSORFLOW SAVING SURGERY SHARING STDIO WINOGRAD BF16 AVX512"
with_all=
for family in $families; do
    with_all="$with_all -DFINETUNE_USE_$family"
    grep -q "^ *FINETUNE_NO_$family " finetune.h && passed=$((passed + 1)) ||
        { failed=$((failed + 1)); echo "FAILED: the manual does not list FINETUNE_NO_$family"; }
    case $family in
    CONVOLUTION) more="-DFINETUNE_NO_DEPTHWISE -DFINETUNE_NO_RESNET -DFINETUNE_NO_MOBILENET -DFINETUNE_NO_KERAS_CNN -DFINETUNE_NO_WINOGRAD" ;;
    DEPTHWISE) more=-DFINETUNE_NO_MOBILENET ;;
    ATTENTION | ARITHMETIC) more=-DFINETUNE_NO_TRANSFORMERS ;;
    *) more= ;;
    esac
    case $family in TRAINING | WINOGRAD | BF16 | AVX512) ;; *) more="$more -DFINETUNE_NO_SIMD" ;; esac
    case $family in TRAINING | CONVOLUTION | TEXT | SURGERY) ;; *) [ -n "$LONG" ] || continue ;; esac
    try "FINETUNE_NO_$family alone" ${CC:-cc} -std=c99 $again -DFINETUNE_NO_$family $more -I. -fsyntax-only $out/without.c
done
listed=$(sed -n 's/^#define FT__HAS_\([A-Z0-9_]*\) 1$/\1/p' finetune.h | sort | tr '\n' ' ')
[ "$listed" = "$(printf '%s\n' $families | sort | tr '\n' ' ')" ] && passed=$((passed + 1)) ||
    { failed=$((failed + 1)); echo "FAILED: the families are $listed"; }
refused() { # FLAGS: this half of a choice does not compile
    if ${CC:-cc} -std=c99 "$@" -DFINETUNE_NO_SIMD -I. -fsyntax-only $out/without.c >/dev/null 2>&1; then
        failed=$((failed + 1)); echo "FAILED: $* was accepted"
    else passed=$((passed + 1)); fi
}
refused -DFINETUNE_USE_TEXT
refused -DFINETUNE_NO_CONVOLUTION
refused -DFINETUNE_NO_DEPTHWISE
refused -DFINETUNE_ONLY -DFINETUNE_USE_RESNET
refused -DFINETUNE_ONLY -DFINETUNE_USE_WINOGRAD
refused -DFINETUNE_ONLY -DFINETUNE_USE_DEPTHWISE
try "FINETUNE_ONLY with all" ${CC:-cc} -std=c99 $again -DFINETUNE_ONLY $with_all -I. -fsyntax-only $out/without.c
for compiler in "gcc -std=c99" "clang -std=c99" "g++ -std=c++11" "clang++ -std=c++11"; do
    have ${compiler%% *} || continue
    case $compiler in clang\ * | g++*) [ -n "$LONG" ] || continue ;; esac # GCC in C, Clang in C++
    case $compiler in *++*) source=without.cpp ;; *) source=without.c ;; esac
    try "$compiler, FINETUNE_ONLY" $compiler $again -DFINETUNE_ONLY -I. -fsyntax-only $out/$source
    try "$compiler, for training" $compiler $again -DFINETUNE_ONLY -DFINETUNE_USE_CONVOLUTION -DFINETUNE_USE_TRAINING \
        -DFINETUNE_USE_DATA -DFINETUNE_USE_IMAGES -DFINETUNE_USE_STDIO -I. -fsyntax-only $out/$source
done

# With nothing chosen each function says what it wants; and so does each operator in a model file, of
# the networks that the whole library writes here.
cat >$out/one.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
END
full=build/finetune.o
[ -f $full ] || { full=$out/full.o; try "the whole library" ${CC:-cc} -std=c99 -O2 -I. -c $out/one.c -o $full; }
cat >$out/networks.c <<'END'
#include "finetune.h"
#include <stdio.h>
#include <string.h>
/* Writes the networks "narrow" (none of whose layers uses Winograd's form), "lstm", "mobile",
   "attention" and "exp". */
static ft_model *m;
static int failed;
static void save(const char *path)
{
    ft_save_options none;
    memset(&none, 0, sizeof none);
    ft_save(m, path, none);
    if (ft_error(m)) printf("%s\n", ft_error_text(m));
    failed += ft_error(m) != FT_OK;
    ft_destroy(m);
}
static void start(void)
{
    ft_desc desc;
    memset(&desc, 0, sizeof desc);
    m = ft_create(desc);
}
static void narrow(void)
{
    ft_input_options in;
    ft_conv2d_options conv;
    ft_batch_norm_options norm;
    ft_activation_options relu;
    ft_pool2d_options pool;
    ft_linear_options linear;
    ft_preprocessing p;
    ft_node x;
    memset(&in, 0, sizeof in);
    memset(&conv, 0, sizeof conv);
    memset(&norm, 0, sizeof norm);
    memset(&relu, 0, sizeof relu);
    memset(&pool, 0, sizeof pool);
    memset(&linear, 0, sizeof linear);
    memset(&p, 0, sizeof p);
    in.size[0] = p.channels = 3;
    in.size[1] = in.size[2] = p.width = p.height = 32;
    conv.kernel[0] = 3;
    conv.padding[0] = 1;
    pool.kernel[0] = 2;
    p.std[0] = p.std[1] = p.std[2] = 0.25f;
    x = ft_conv2d(m, "conv1", ft_input(m, "input", in), 8, conv);
    x = ft_activation(m, "relu", "relu1", ft_batch_norm(m, "bn1", x, norm), relu);
    x = ft_conv2d(m, "conv2", ft_max_pool2d(m, "pool", x, pool), 12, conv);
    x = ft_flatten(m, "flat", ft_global_avg_pool(m, "mean", ft_activation(m, "gelu", "g", x, relu)));
    ft_set_output(m, ft_linear(m, "fc", x, 10, linear));
    ft_set_preprocessing(m, p);
}
int main(void)
{
    ft_network_options n;
    ft_input_options in;
    ft_attention_options attention;
    ft_unary_options unary;
    ft_node x;
    memset(&n, 0, sizeof n);
    memset(&in, 0, sizeof in);
    memset(&attention, 0, sizeof attention);
    memset(&unary, 0, sizeof unary);
    start();
    narrow();
    save("build/builds/narrow.safetensors");
    start();
    n.words = 5;
    ft_network(m, "lstm_classifier", n);
    save("build/builds/lstm.safetensors");
    start();
    n.words = 0;
    n.width = 0.25f;
    n.image_size = 32;
    ft_network(m, "mobilenet_v1", n);
    save("build/builds/mobile.safetensors");
    start();
    in.size[0] = 4;
    in.size[1] = 8;
    x = ft_input(m, "x", in);
    ft_set_output(m, ft_attention(m, "attention", x, x, x, attention));
    save("build/builds/attention.safetensors");
    start();
    x = ft_input(m, "x", in);
    ft_set_output(m, ft_unary(m, "exp", "exp", x, unary));
    save("build/builds/exp.safetensors");
    return failed;
}
END
cat >$out/nothing.c <<'END'
#define FINETUNE_ONLY
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
static int failed;
static ft_model *m;
static void want(const char *what, const char *family)
{
    char macro[64];
    snprintf(macro, sizeof macro, "FINETUNE_ONLY without FINETUNE_USE_%s)", family);
    if (!strstr(ft_error_text(m), macro)
        || ft_error(m) != (strcmp(family, "STDIO") ? FT_UNSUPPORTED : FT_IO)) {
        failed += 1;
        printf("%s: %s\n", what, ft_error(m) ? ft_error_text(m) : "works");
    }
    ft_clear_error(m);
}
#define CALL(family, call) ((void)(call), want(#call, #family))
static unsigned char bytes[1 << 22];
static void file(const char *path, const char *family)
{
    FILE *from = fopen(path, "rb");
    ft_load_options load;
    memset(&load, 0, sizeof load);
    load.weights.memory = bytes;
    load.weights.bytes = from ? fread(bytes, 1, sizeof bytes, from) : 0;
    if (from) fclose(from);
    ft_load(m, path, load);
    want(path, family);
}
#define ZERO(type, name) type name; memset(&name, 0, sizeof name)
int main(void)
{
    static float numbers[16];
    static const uint8_t *pixels[1];
    ft_prediction best[1];
    ft_node x;
    int axes[4] = {0, 2, 1, 3};
    const char *text = "a";
    ZERO(ft_desc, desc);
    ZERO(ft_input_options, in);
    ZERO(ft_conv2d_options, conv2d);
    ZERO(ft_conv1d_options, conv1d);
    ZERO(ft_batch_norm_options, batch_norm);
    ZERO(ft_group_norm_options, group_norm);
    ZERO(ft_layer_norm_options, layer_norm);
    ZERO(ft_pool2d_options, pool);
    ZERO(ft_recurrent_options, recurrent);
    ZERO(ft_rms_norm_options, rms_norm);
    ZERO(ft_rotary_options, rotary);
    ZERO(ft_add_positions_options, positions);
    ZERO(ft_lora_options, lora);
    ZERO(ft_merge_options, merge);
    ZERO(ft_save_adapter_options, save_adapter);
    ZERO(ft_loss_options, loss);
    ZERO(ft_attention_options, attention);
    ZERO(ft_unary_options, unary);
    ZERO(ft_reduce_options, reduce);
    ZERO(ft_matmul_options, matmul);
    ZERO(ft_fit_options, fit);
    ZERO(ft_finetune_options, finetune);
    ZERO(ft_find_options, find);
    ZERO(ft_optimizer_options, optimizer);
    ZERO(ft_evaluate_options, evaluate);
    ZERO(ft_predict_options, predict);
    ZERO(ft_array_options, arrays);
    ZERO(ft_array_file_options, files);
    ZERO(ft_pixels_options, of_pixels);
    ZERO(ft_source, source);
    ZERO(ft_image_folder_options, folder);
    ZERO(ft_text_options, texts);
    ZERO(ft_stream_options, streams);
    ZERO(ft_completion_options, completions);
    ZERO(ft_tokenizer_options, tokenizer);
    ZERO(ft_vocabulary_options, vocabulary);
    ZERO(ft_generate_options, generate);
    ZERO(ft_language_model_to_classifier_options, classifier);
    ZERO(ft_save_options, saving);
    ZERO(ft_load_options, load);
    ZERO(ft_activation_options, activation);
    m = ft_create(desc);
    in.size[0] = in.size[1] = in.size[2] = 4;
    x = ft_input(m, "x", in);
    CALL(CONVOLUTION, ft_conv2d(m, "c", x, 4, conv2d));
    CALL(CONVOLUTION, ft_conv1d(m, "c", x, 4, conv1d));
    CALL(CONVOLUTION, ft_batch_norm(m, "c", x, batch_norm));
    CALL(CONVOLUTION, ft_group_norm(m, "c", x, group_norm));
    CALL(CONVOLUTION, ft_max_pool2d(m, "c", x, pool));
    CALL(CONVOLUTION, ft_avg_pool2d(m, "c", x, pool));
    CALL(CONVOLUTION, ft_global_avg_pool(m, "c", x));
    CALL(CONVOLUTION, ft_global_max_pool(m, "c", x));
    CALL(RECURRENT, ft_lstm(m, "r", x, 4, recurrent));
    CALL(RECURRENT, ft_gru(m, "r", x, 4, recurrent));
    CALL(RECURRENT, ft_rnn(m, "r", x, 4, recurrent));
    CALL(RECURRENT, ft_language_model_to_classifier(m, 2, classifier));
    CALL(ATTENTION, ft_attention(m, "a", x, x, x, attention));
    CALL(ATTENTION, ft_set_packed(m, true));
    CALL(ATTENTION, ft_layer_norm(m, "a", x, layer_norm));
    CALL(ATTENTION, ft_rms_norm(m, "a", x, rms_norm));
    CALL(ATTENTION, ft_rotary(m, "a", x, rotary));
    CALL(ATTENTION, ft_add_positions(m, "a", x, 4, positions));
    CALL(ATTENTION, ft_linear_cross_entropy(m, "a", x, x, x, x, loss));
    CALL(ARITHMETIC, ft_unary(m, "exp", "e", x, unary));
    CALL(ARITHMETIC, ft_binary(m, "sub", "e", x, x));
    CALL(ARITHMETIC, ft_where(m, "e", x, x, x));
    CALL(ARITHMETIC, ft_reduce(m, "sum", "e", x, reduce));
    CALL(ARITHMETIC, ft_permute(m, "e", x, 4, axes));
    CALL(ARITHMETIC, ft_gather(m, "e", x, x, 1));
    CALL(ARITHMETIC, ft_matmul(m, "e", x, x, matmul));
    CALL(ARITHMETIC, ft_ctc_loss(m, "e", x, x, loss));
    ft_set_output(m, ft_add(m, "sum", x, x)); /* these need nothing */
    if (ft_error(m)) printf("%s\n", ft_error_text(m)), failed += 1;
    CALL(TRAINING, ft_forward(m, true));
    CALL(TRAINING, ft_backward(m));
    CALL(TRAINING, ft_update(m, 1));
    CALL(TRAINING, ft_set_optimizer(m, optimizer));
    CALL(TRAINING, ft_plan(m, 1, true));
    CALL(TRAINING, ft_want_gradient(m, x));
    CALL(TRAINING, ft_get_gradient(m, x, numbers, 16));
    CALL(TRAINING, ft_scale_learning_rate(m, "*", 1));
    CALL(TRAINING, ft_set_weight_decay(m, "*", 1));
    CALL(TRAINING, ft_set_groups(m, NULL, 0));
    CALL(TRAINING, ft_decay_layers(m, 1));
    CALL(TRAINING, ft_fit(m, NULL, fit));
    CALL(TRAINING, ft_finetune(m, NULL, finetune));
    CALL(TRAINING, ft_find_learning_rate(m, NULL, fit, find));
    CALL(DATA, ft_evaluate(m, NULL, evaluate));
    CALL(DATA, ft_predict_data(m, NULL, best, 1, predict));
    CALL(DATA, ft_arrays(m, 1, numbers, NULL, arrays));
    CALL(DATA, ft_array_file(m, "x", files));
    CALL(DATA, ft_pixels(m, 1, pixels, NULL, NULL, of_pixels));
    CALL(DATA, ft_data_source(m, source));
    CALL(IMAGES, ft_image_folder(m, "examples", folder));
    CALL(IMAGES, ft_predict_file(m, "x.png", best, 1));
    CALL(IMAGES, ft_predict_memory(m, "x", 1, best, 1));
    CALL(TEXT, ft_texts(m, "x", texts));
    CALL(TEXT, ft_text_streams(m, "x", streams));
    CALL(TEXT, ft_completions(m, "x", completions));
    CALL(TEXT, ft_tokenizer_load(m, "x", tokenizer));
    CALL(TEXT, ft_tokenizer_build(m, FT_WORDS, &text, 1, vocabulary));
    CALL(TEXT, ft_set_tokenizer(m, NULL));
    CALL(TEXT, ft_predict_text(m, "x", 1, best, 1));
    CALL(TEXT, ft_generate(m, generate));
    CALL(SAVING, ft_save(m, "x", saving));
    CALL(SAVING, ft_graph_text(m));
    CALL(SURGERY, ft_replace(m, x, x));
    CALL(SURGERY, ft_cut(m, x));
    CALL(SURGERY, ft_replace_head(m, 2));
    CALL(SURGERY, ft_swap_activations(m, "*", "relu", activation));
    CALL(SURGERY, ft_lora(m, "*", lora));
    CALL(SURGERY, ft_merge(m, merge));
    CALL(SURGERY, ft_unmerge(m));
    CALL(TRANSFORMERS, ft_load_adapter(m, "examples"));
    CALL(TRANSFORMERS, ft_save_adapter(m, "examples", save_adapter));
    CALL(SHARING, ft_share(m, desc));
    ft_destroy(m);
    m = ft_create(desc);
    CALL(STDIO, ft_load(m, "build/builds/narrow.safetensors", load));
    file("build/builds/narrow.safetensors", "CONVOLUTION");
    file("build/builds/lstm.safetensors", "RECURRENT");
    file("build/builds/attention.safetensors", "ATTENTION");
    file("build/builds/exp.safetensors", "ARITHMETIC");
    file("tests/golden/formats/plain.pt", "PYTORCH");
    file("tests/golden/formats/a.npy", "NUMPY");
    file("tests/golden/formats/tf1.index", "TENSORFLOW");
    file("tests/golden/formats/np_types.npz", "NUMPY");
    ft_destroy(m);
    desc.precision = "bf16_emulated";
    m = ft_create(desc);
    want("bf16_emulated", "BF16");
    ft_destroy(m);
    return failed;
}
END
cp $out/nothing.c $out/nothing.cpp
try "networks to load" ${CC:-cc} -std=c99 $warnings -I. $out/networks.c $full -o $out/networks -lm -pthread
try "networks are written" $out/networks
try "FINETUNE_ONLY" ${CC:-cc} -std=c99 $again -DFINETUNE_NO_SIMD -O0 -I. $out/nothing.c -o $out/nothing -lm -pthread
try "FINETUNE_ONLY says what is left out" $out/nothing
if have g++; then try "FINETUNE_ONLY in C++" g++ -std=c++11 $warnings -DFINETUNE_NO_SIMD -I. -fsyntax-only $out/nothing.cpp; fi

# The smallest program predicts the bits of the whole library, at the best level that both have.
simd=none
case $(uname -m) in x86_64) ! grep -q avx2 /proc/cpuinfo || simd=avx2 ;; esac
cc_small="${CC:-cc} -std=c99 $again -Wno-missing-field-initializers"
try "the smallest program" $cc_small -O2 -I. -c tests/programs/smallest.c -o $out/smallest.o
try "the smallest program links" ${CC:-cc} $out/smallest.o -o $out/smallest -lm -pthread
try "the same, whole" $cc_small -O2 -DFULL -I. tests/programs/smallest.c $full -o $out/whole -lm -pthread
same() { # PROGRAM MODEL: it and the whole library print the same
    $out/whole $2 $simd >$out/whole.txt 2>&1 && $out/$1 $2 $simd >$out/small.txt 2>&1 &&
        [ -s $out/small.txt ] && cmp -s $out/whole.txt $out/small.txt && passed=$((passed + 1)) ||
        { failed=$((failed + 1)); echo "FAILED: $1 $2 $simd:"; cat $out/whole.txt $out/small.txt; }
}
same smallest $out/narrow.safetensors
says() { # TEXT COMMAND...: it fails, and says so
    text=$1; shift
    if "$@" >$out/log.txt 2>&1 || ! grep -q "$text" $out/log.txt; then
        failed=$((failed + 1)); echo "FAILED: $*: not \"$text\", but"; cat $out/log.txt
    else passed=$((passed + 1)); fi
}
says FINETUNE_USE_DEPTHWISE $out/smallest $out/mobile.safetensors none
says FINETUNE_USE_RECURRENT $out/smallest $out/lstm.safetensors none
says "simd avx512: not supported by this CPU or build" $out/smallest $out/narrow.safetensors avx512
case $(uname -m)$(${CC:-cc} --version | head -1) in
x86_64*clang*) ;;
x86_64*) # what it costs: bench/RESULTS.md
    bytes=$(size $out/smallest.o | awk 'NR == 2 { print $1 }')
    [ "${bytes:-999999}" -le 300000 ] && passed=$((passed + 1)) ||
        { failed=$((failed + 1)); echo "FAILED: the smallest program has $bytes bytes of code and constants"; } ;;
esac
if [ -n "$LONG" ]; then
    try "the smallest program with more" $cc_small -O2 -DFINETUNE_USE_WINOGRAD -DFINETUNE_USE_DEPTHWISE -I. tests/programs/smallest.c -o $out/more -lm -pthread
    same more examples/demo/base.safetensors
    same more $out/mobile.safetensors
fi

# Half a configuration must be refused, not compiled.
if ${CC:-cc} -std=c99 -ffast-math -I. -fsyntax-only $out/use.c >/dev/null 2>&1; then
    failed=$((failed + 1)); echo "FAILED: -ffast-math was accepted"
else passed=$((passed + 1)); fi

# Two units: one has the implementation, the other only uses it; and a second that has it too must
# not be needed. The C unit and the C++ unit share one library.
cat >$out/two.cpp <<'END'
#include "finetune.h"
int main()
{
    ft_model *m = ft_create(ft_desc{});
    int status = ft_error(m);
    ft_destroy(m);
    return status;
}
END
if have g++; then
    try "two units" g++ -std=c++11 $warnings -Wno-missing-field-initializers -I. $out/two.cpp $full -o $out/two -lm -pthread
    try "two units run" $out/two
else skip "g++ is not installed"; fi

# FreeType has the same prefix.
if [ -e /usr/include/freetype2/ft2build.h ]; then
    for first in freetype finetune; do
        {
            [ $first = finetune ] && printf '#define FINETUNE_IMPLEMENTATION\n#include "finetune.h"\n'
            printf '#include <ft2build.h>\n#include FT_FREETYPE_H\n#include FT_GLYPH_H\n'
            printf '#include FT_OUTLINE_H\n#include FT_STROKER_H\n#include FT_BITMAP_H\n'
            printf '#include FT_MODULE_H\n#include FT_CACHE_H\n#include FT_SIZES_H\n'
            [ $first = freetype ] && printf '#define FINETUNE_IMPLEMENTATION\n#include "finetune.h"\n'
            printf 'int main(void) { return FT_OK; }\n'
        } >$out/freetype.c
        try "$first first, beside the other" ${CC:-cc} -std=c99 -Wall -Wno-misleading-indentation -Werror -DFINETUNE_NO_SIMD -isystem /usr/include/freetype2 -I. -fsyntax-only $out/freetype.c
    done
else skip "FreeType's headers are not installed"; fi

# The examples but for the tool, without the implementation that is compiled above (make test-long makes them all).
for example in examples/*.c; do
    case $example in */finetune.c) continue ;; esac
    try "$example" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_SIMD -DFINETUNE__IMPLEMENTED -I. -fsyntax-only "$example"
done

# The benchmarks, which no test runs.
for bench in bench/*.c; do
    case $bench in *opencl*) [ -n "$opencl" ] || continue ;; esac
    try "$bench" ${CC:-cc} -std=c99 $again $opencl -I. -fsyntax-only "$bench"
done

echo "test_builds: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
