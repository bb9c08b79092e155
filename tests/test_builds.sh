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
    ft_run(m, values, 1, logits);
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
        try "$compiler $standard $with" $compiler -std=$standard $warnings $with -O0 -I. $out/$source -o $out/use -lm -pthread
        try "$compiler $standard $with runs" $out/use
    done
done

# From here on scalar where SIMD is not the point: its kernels are most of what the compiler does.
try "FINETUNE_NO_THREADS with SIMD" ${CC:-cc} -std=c99 $warnings -DFINETUNE_NO_THREADS -I. -fsyntax-only $out/use.c
for macro in "FINETUNE_NO_THREADS -DFINETUNE_NO_SIMD" FINETUNE_NO_SIMD "FINETUNE_NO_POSIX -DFINETUNE_NO_SIMD"; do
    try "$macro" ${CC:-cc} -std=c99 $warnings -D$macro -O0 -I. $out/use.c -o $out/use -lm -pthread
    try "$macro runs" $out/use
done

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
left_out FINETUNE_NO_RESNET resnet18 1 "there are mobilenet_v1, keras_cnn"
left_out FINETUNE_NO_MOBILENET mobilenet_v1 1 "no network of this name"
left_out FINETUNE_NO_KERAS_CNN keras_cnn 1 "no network of this name"
left_out FINETUNE_NO_RECURRENT lstm_classifier 1 "no network of this name"
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
