#!/bin/sh
# The form of src/ is held (check_header.sh), and what holds it notices: each fault below is put into
# a copy on purpose, and the check must name it. Then a program is compiled against src/ itself: its
# bits are those of finetune.h, and the compiler's errors name the part.
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
top=$PWD
out=build/header
rm -rf $out
mkdir -p $out

sh tests/check_header.sh >$out/log.txt 2>&1 && ok || { bad "check_header.sh"; cat $out/log.txt; }

# copy; then put COMMAND for each fault; then noticed TEXT...: the check fails in the copy, and says each
copy() {
    rm -rf $out/copy
    mkdir -p $out/copy/tests $out/copy/docs
    cp -r src finetune.h kernels.cl $out/copy
    cp tests/check_header.sh tests/parts.awk $out/copy/tests
    cp docs/networks.md $out/copy/docs
}
put() { (cd $out/copy && eval "$1") || bad "cannot put in: $1"; }
noticed() {
    (cd $out/copy && sh tests/check_header.sh) >$out/log.txt 2>&1 && bad "the check passes with faults"
    for text; do
        grep -q -- "$text" $out/log.txt && ok || { bad "the check does not say '$text'"; tail -5 $out/log.txt; }
    done
}
join='awk -f src/join.awk src/finetune.h >finetune.h'

copy # names: an upward use, one that a macro pastes together, a declaration, a circle, includes
put "echo 'static void ft__up(void) { (void)ft_fit; }' >>src/basics/random.h"
put "printf '#define FT__PASTE(name) ft__##name##_forward\nstatic void ft__pasted(const ft__call *c) { FT__PASTE(relu)(c); }\n' >>src/operators/common.h"
put "echo 'static void ft__run_backward(ft_model *m, ft__plan *plan, int batch);' >>src/graph/plan.h"
put "sed -i 's/^#pragma once/#pragma once\n#include \"graph\/plan.h\"/' src/basics/json.h"
put "sed -i '/^#include \"basics\/json.h\"/d' src/formats/safetensors.h"
noticed "src/basics/random.h.*uses ft_fit, which .* defines later" \
    "src/operators/common.h: uses ft__relu_forward, which .* defines later" \
    "declares ft__run_backward before its definition" "src/basics/json.h: includes \"graph/plan.h\"" \
    "src/formats/safetensors.h: does not include \"basics/json.h\""

copy # form
put "printf '/* %0100d */\n' 1 >>src/basics/random.h"
put "{ echo 'static void ft__long(void)'; echo '{'; yes '    ;' | head -70; echo '}'; } >>src/basics/random.h"
put "echo '/* see section 8.2 */' >>src/basics/random.h"
put "yes '/* more */' | head -900 >>src/basics/strings.h"
put "sed -i 's/\[SECTION\] operators\/linear/[SECTION] operators\/linar/' src/operators/linear.h"
put "cp src/basics/json.h src/basics/jason.h"
put "sed -i '/In files: .group_norm/s/ x; or/ y; or/' src/operators/group_norm.h"
put "awk '/basics\/sorting.h/ { next } { print } /kernels\/gemm.h/ { print \"#include \\\"basics/sorting.h\\\"\" }' src/finetune.h >x; mv x src/finetune.h"
noticed "src/basics/random.h:.*100 columns\|src/basics/random.h:[0-9]*$" "ft__long" "see section 8.2" "src/basics/strings.h: [0-9]* lines" \
    "src/operators/linear.h: its banner says" "src/basics/jason.h: src/finetune.h does not include it" \
    "the parts of basics/ do not stand together" "finetune.h is not what src/ gives" "its table is not what src/operators/ says"

copy
put "echo >>finetune.h"
noticed "finetune.h is not what src/ gives"
copy
put "sed -i '/\[SECTION\]/d' src/operators/linear.h"
noticed "src/operators/linear.h: 0 \[SECTION\] lines" "src/operators/linear.h has no \[SECTION\] line"
copy
put "printf '#ifdef FT__X86\n' >>src/basics/random.h; printf '#endif\n' >>src/basics/strings.h; $join"
noticed "cannot be read by the compiler"
copy
put "printf '#pragma GCC push_options\n' >>src/basics/random.h; printf '#pragma GCC pop_options\n' >>src/basics/strings.h; $join"
noticed "src/basics/random.h: a pragma push is not popped within it"

# The same program from the parts and from the joined header.
cat >$out/use.c <<'END'
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
int main(void)
{
    static float values[2 * 3 * 32 * 32], logits[20];
    int32_t labels[2] = {3, 4};
    ft_desc desc;
    ft_network_options options;
    ft_model *m;
    int i;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    for (i = 0; i < 2 * 3 * 32 * 32; ++i) values[i] = (float)(i % 7) - 3.0f;
    m = ft_create(desc);
    ft_network(m, "resnet20", options);
    ft_feed(m, ft_find(m, "input"), values, 2);
    ft_feed(m, ft_find(m, "labels"), labels, 2);
    ft_forward(m, false);
    ft_get(m, ft_output(m), logits, 20);
    for (i = 0; i < 20; ++i) printf("%a\n", (double)logits[i]);
    if (ft_error(m)) puts(ft_error_text(m));
    i = (int)ft_error(m);
    ft_destroy(m);
    return i;
}
END
for from in -I. "-Isrc -I."; do
    name=$(echo "$from" | tr -dc A-Za-z)
    ${CC:-cc} -std=c99 -O0 -DFINETUNE_NO_SIMD $from $out/use.c -o $out/use$name -lm -pthread >$out/log.txt 2>&1 &&
        $out/use$name >$out/use$name.txt && ok || { bad "a program with $from"; head -5 $out/log.txt $out/use$name.txt; }
done
cmp -s $out/useI.txt $out/useIsrcI.txt && [ -s $out/useI.txt ] && ok || bad "src/ and finetune.h give other bits"
mkdir -p $out/broken
cp -r src $out/broken
echo 'int ft__broken = ;' >>$out/broken/src/operators/batch_norm.h
${CC:-cc} -std=c99 -DFINETUNE_NO_SIMD -I$out/broken/src -I. -fsyntax-only $out/use.c >$out/log.txt 2>&1
grep -q "operators/batch_norm.h:[0-9]*:.*error" $out/log.txt && ok || bad "an error does not name its part"

echo "test_header: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
