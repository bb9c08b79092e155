#!/bin/sh
# ONNX's own tests of single operators, where Debian's libonnx-testdata or ONNX_NODE_TESTS has them: all
# that are of operators that docs/onnx.md lists pass, or are named in onnx_nodes.txt (test-long).
nodes=${ONNX_NODE_TESTS:-/usr/share/libonnx-testdata/data/node}
if [ -z "$LONG" ] || [ ! -d "$nodes" ]; then
    echo "skipped: needs LONG=1 and Debian's libonnx-testdata, or its folder in ONNX_NODE_TESTS"
    echo "test_onnx_nodes: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build
${CC:-cc} -std=c99 -O1 -I. tests/onnx_nodes.c -o build/onnx_nodes -lm -pthread || exit 1
exec build/onnx_nodes "$nodes" tests/onnx_nodes.txt
