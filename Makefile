# make            the command-line tool, build/finetune
# make demo       fine-tune a small network on letters that it has never seen (under a minute)
# make test       every test; ends with "N passed, N failed, N skipped"
# make test-long  also those that need PyTorch or many minutes
# make header     join the parts in src/ into finetune.h, and write the table of docs/networks.md (every
#                 other target does so too)
# make check      the form of src/: no part uses a later one, widths, finetune.h is what src/ gives
# make digests    digests of what six networks are after three steps: the same before and after a change
# make check-cl   kernels.cl is valid OpenCL C 1.2 by itself (needs clang)
# make bench      times it beside other libraries (those that make bench-deps installs, if it was run)
# make coverage   which lines and branches the tests reach, and the largest gaps (some 10 minutes)
# make mutate     break the source on purpose, in many places, and see that a test notices

CFLAGS ?= -O2 -g
FINETUNE_DATA ?= ../shared/data
PYTHON ?= python3
OBJCOPY ?= objcopy
# The tool knows OpenCL where its headers are; the library itself is looked for when it runs.
OPENCL ?= $(if $(wildcard /usr/include/CL/cl.h),-DFINETUNE_OPENCL)
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
FLAGS = -std=c99 $(WARNINGS) -I. -MMD -MP $(CFLAGS)
LIBS = -lm -pthread
# What is tested or timed does not come from an earlier run, and nothing is left in the home folder.
FINETUNE_CACHE ?= none
export FINETUNE_DATA FINETUNE_CACHE

TESTS = $(patsubst tests/%.c,build/%,$(wildcard tests/test_*.c))
LONG_TESTS = build/test_accuracy build/test_text_accuracy # nothing in them is for make test
EXAMPLES = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c))

all: build/finetune

# finetune.h is joined from the parts in src/, and written only where that changes it; so are the table
# of operators in docs/networks.md and the calls with NULL in tests/tries.h.
header: finetune.h
finetune.h: build/joined.h ;
build/joined.h: $(wildcard src/*.h src/*/*.h src/*.awk) tests/tries.awk | build
	@awk -f src/join.awk src/finetune.h >$@ || { rm -f $@; exit 1; }
	@cmp -s $@ finetune.h || { cp $@ finetune.h; echo "finetune.h: joined again from src/"; }
	@awk -f src/networks.awk src/finetune.h docs/networks.md >build/networks.md
	@cmp -s build/networks.md docs/networks.md || { cp build/networks.md docs/networks.md; echo "docs/networks.md: written again"; }
	@awk -f tests/tries.awk src/interface/operators.h >build/tries.h
	@cmp -s build/tries.h tests/tries.h || { cp build/tries.h tests/tries.h; echo "tests/tries.h: written again"; }

build/%: examples/%.c | build
	$(CC) $(FLAGS) $< -o $@ $(LIBS)

build/tool.o: examples/finetune.c | build
	$(CC) $(FLAGS) $(OPENCL) -c $< -o $@

build/finetune: build/tool.o
	$(CC) $(CFLAGS) $< -o $@ $(LIBS)

# What tests of public functions link: the library as the tool has it, whose main is hidden, so that
# it is compiled once, as users compile it. Without debugging information, which would be copied into
# each of them.
build/finetune.o: build/tool.o
	$(OBJCOPY) --strip-debug --localize-symbol=main $< $@

LINKED = $(patsubst tests/%.c,build/%,$(shell grep -L \
    '^.include "internals.h"\|^.include "test_operators.c"\|FINETUNE_IMPLEMENTATION' tests/test_*.c))
$(LINKED): build/%: tests/%.c build/finetune.o
	$(CC) $(FLAGS) -MF $@.d -MT $@ -O1 -g1 $< build/finetune.o -o $@ $(LIBS)

# Tests of internals include the implementation (tests/internals.h). They are compiled more than run:
# -O1 and -g1, behind the others' flags, take half of the seconds, and the kernels ask for their own
# level. Where SIMD is not the point its kernels are left out, and where little is computed -O0 does.
# GCC's -Wmisleading-indentation, which test_builds asks for, takes 7 seconds of a file this long.
TEST_FLAGS = $(FLAGS) -Wno-misleading-indentation $(FOR_TESTS)
FOR_TESTS = -O1 -g1
build/test_tensor: FOR_TESTS = -O1 -g1 -DFINETUNE_NO_SIMD
build/test_completions build/test_data build/test_internals build/test_opencl_failures build/test_text \
    build/test_tokenizers: \
    FOR_TESTS = -O0 -g1 -DFINETUNE_NO_SIMD

build/test_layout build/test_opencl build/test_opencl_failures build/test_tensor: build/%: tests/%.c | build
	$(CC) $(TEST_FLAGS) $(OPENCL) $< -o $@ $(LIBS)

# One program by two names.
build/test_operators: build/test_opencl
	ln -f $< $@

# A loader that fails when it is told to.
build/fake_opencl.so: tests/fake_opencl.c | build
	$(CC) $(FLAGS) -shared -fPIC $< -o $@

build/test_opencl_failures: $(if $(OPENCL),build/fake_opencl.so)

build/test_%: tests/test_%.c | build
	$(CC) $(TEST_FLAGS) $< -o $@ $(LIBS)

build:
	mkdir -p $@

deps:
	@sh tests/deps.sh

demo: deps
	@$(MAKE) --no-print-directory build/finetune build/demo
	@build/demo

test: deps check
	@start=$$(date +%s) && \
	    $(MAKE) --no-print-directory -j2 all $(filter-out $(LONG_TESTS),$(TESTS)) && \
	    COMPILED=$$(($$(date +%s) - start)) sh tests/run.sh

test-long: deps
	@start=$$(date +%s) && \
	    $(MAKE) --no-print-directory -j2 all $(TESTS) $(EXAMPLES) && \
	    COMPILED=$$(($$(date +%s) - start)) LONG=1 PYTHON="$(PYTHON)" sh tests/run.sh

check:
	@sh tests/check_header.sh

# For a change that must not change bits: run before and after it, and compare.
build/digests: tests/digests.c finetune.h | build
	$(CC) $(FLAGS) $< -o $@ $(LIBS)

digests: build/digests
	@build/digests

check-cl:
	clang -x cl -cl-std=CL1.2 -Wall -Wextra -Werror -fsyntax-only kernels.cl
	clang -x cl -cl-std=CL1.2 -Wall -Wextra -Werror -fsyntax-only -DFINETUNE_MMA -DFINETUNE_EMULATE_MMA kernels.cl

build/attention build/bench build/bench_runs build/bench_share: build/%: bench/%.c | build
	$(CC) $(FLAGS) $< -o $@ $(LIBS)

build/bench_opencl: bench/bench_opencl.c | build
	$(CC) $(FLAGS) $(OPENCL) $< -o $@ $(LIBS)

build/bench_gpu: bench/bench_gpu.c build/finetune.o
	$(CC) $(FLAGS) -MF $@.d -MT $@ $< build/finetune.o -o $@ $(LIBS)

build/bench_cublas: bench/bench_cublas.c | build
	$(CC) $(FLAGS) $< -o $@ -ldl

bench: build/bench build/bench_runs
	@$(PYTHON) bench/run.py
	@$(PYTHON) bench/runs.py

bench-deps:
	$(PYTHON) -m pip install torch torchvision safetensors numpy onnx onnxruntime openvino
	@sh tests/deps.sh bench

coverage: deps header
	@sh tests/coverage.sh

mutate: deps
	@sh tests/mutate.sh

clean:
	rm -rf build

-include $(wildcard build/*.d)
.PHONY: all header deps demo test test-long check digests check-cl bench bench-deps coverage mutate clean
