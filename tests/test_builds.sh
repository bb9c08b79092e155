#!/bin/sh
# The header compiles, links and runs a small program in every way that it promises: compilers,
# languages, without SIMD, without threads, two units, beside FreeType.
passed=0 failed=0 skipped=0
out=build/builds
mkdir -p $out
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

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

# Each compiler and standard, one of the two with OpenCL, which needs nothing to be linked. Each
# compiler makes one program, which runs; of its other standard it reads the code and warns, which
# takes 1 second instead of 12. LONG=1 makes and runs them all.
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
        gccc11 | g++c++20 | clangc99 | clang++c++11)
            if [ -z "$LONG" ]; then
                try "$compiler $standard $with" $compiler -std=$standard $warnings $with -I. -fsyntax-only $out/$source
                continue
            fi ;;
        esac
        # g++ warns of more when it optimises, and users build with -O2.
        case $compiler$LONG in g++ | *?1) level=-O2 ;; *) level=-O0 ;; esac
        try "$compiler $standard $with" $compiler -std=$standard $warnings $with $level -I. $out/$source -o $out/use -lm -pthread
        try "$compiler $standard $with runs" $out/use
    done
done

# From here on scalar where SIMD is not the point: its kernels are most of what the compiler does.
try "FINETUNE_NO_THREADS with SIMD" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_THREADS -I. -fsyntax-only $out/use.c
for macro in "FINETUNE_NO_THREADS -DFINETUNE_NO_SIMD" FINETUNE_NO_SIMD "FINETUNE_NO_POSIX -DFINETUNE_NO_SIMD"; do
    try "$macro" ${CC:-cc} -std=c99 $warnings -D$macro -O0 -I. $out/use.c -o $out/use -lm -pthread
    try "$macro runs" $out/use
done
if [ -n "$LONG" ]; then # the same as PyTorch, too
    try "test_golden without SIMD" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_SIMD -O1 -I. tests/test_golden.c -o $out/golden -lm -pthread
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
    try "windows.h first, $standard" ${CC:-cc} -x $language -std=$standard $warnings $opencl -I. -fsyntax-only $out/windows_use.c
    if have ${mingw%gcc}g++ || { have $mingw && [ $language = c ]; }; then
        try "mingw's windows.h first, $standard" $mingw -x $language -std=$standard $warnings -include windows.h -I. -fsyntax-only $out/use.c
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
try "ft__print" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_SIMD -O0 -I. $out/print.c -o $out/print -lm -pthread
try "ft__print prints what snprintf does" $out/print

# LONG=1: the main programs in another way than make test has them.
internals= # flags of the tests that include the implementation
round() { # NAME COMPILER FLAGS...
    name=$1; shift
    try "$name: the library" "$@" -std=c99 -I. -c tests/fuzz/library.c -o $out/library.o
    for test in attention cache data edges elementary fit formats gemm golden levels memory networks \
        operators prediction sequences text text_train tokenizers weights zip; do
        grep -q 'internals.h\|FINETUNE_IMPLEMENTATION\|test_operators.c' tests/test_$test.c && own=$internals || own=$out/library.o
        try "$name: test_$test builds" "$@" -std=c99 -I. tests/test_$test.c $own -o $out/round -lm -pthread
        try "$name: test_$test" env FINETUNE_CACHE=none $out/round
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
            try "$compiler -m32 $more" $compiler -m32 $more $warnings $opencl -I. -fsyntax-only $out/use.c
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
    try "mingw builds another" $mingw -std=c99 $warnings -O1 -DFINETUNE_NO_SIMD -I. $out/files.c -o $out/files.exe
    try "mingw builds a program" $mingw -std=c99 $warnings -O1 -I. $out/use.c -o $out/use.exe
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
    try "$1" ${CC:-cc} -std=c99 $warnings -D$1 -DFINETUNE_NO_SIMD -O0 -I. $out/without.c -o $out/without -lm -pthread
    try "$1 says so" $out/without "$2" "$3" "$4"
    if have g++; then
        try "$1 in C++" g++ -std=c++11 $warnings -D$1 -I. -fsyntax-only $out/without.cpp
    fi
}
left_out FINETUNE_NO_PYTORCH tests/golden/formats/plain.pt 8 FINETUNE_NO_PYTORCH
left_out FINETUNE_NO_RESNET resnet18 1 "it must be one of mobilenet_v1, keras_cnn"
left_out FINETUNE_NO_MOBILENET mobilenet_v1 1 "unknown network"
left_out FINETUNE_NO_KERAS_CNN keras_cnn 1 "unknown network"
left_out FINETUNE_NO_RECURRENT lstm_classifier 1 "unknown network"
left_out FINETUNE_NO_TEXT examples/text/reviews.tsv 8 FINETUNE_NO_TEXT

# Half a configuration must be refused, not compiled.
if ${CC:-cc} -std=c99 -ffast-math -I. -fsyntax-only $out/use.c >/dev/null 2>&1; then
    failed=$((failed + 1)); echo "FAILED: -ffast-math was accepted"
else passed=$((passed + 1)); fi

# Two units: one has the implementation, the other only uses it; and a second that has it too must
# not be needed. The C unit and the C++ unit share one library.
cat >$out/one.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
END
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
try "unit one" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_SIMD -I. -c $out/one.c -o $out/one.o
if have g++; then
    try "two units" g++ -std=c++11 $warnings -Wno-missing-field-initializers -I. $out/two.cpp $out/one.o -o $out/two -lm -pthread
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
        try "$first first, beside the other" ${CC:-cc} -std=c99 -Wall -Werror -DFINETUNE_NO_SIMD -isystem /usr/include/freetype2 -I. $out/freetype.c -o $out/freetype -lm -pthread
    done
else skip "FreeType's headers are not installed"; fi

# The examples that no other script runs (make test-long makes them all).
for example in examples/*.c; do
    try "$example" ${CC:-cc} -std=c99 $warnings -I. -fsyntax-only "$example"
done

echo "test_builds: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
