#!/bin/sh
# OpenCL on Intel's CPU runtime, a second compiler of kernels.cl beside PoCL: only with LONG=1, and
# where PYTHON can install the runtime with pip, in an environment of its own in build/intel.
python=${PYTHON:-python3}
out=build/intel
passed=0 failed=0 skipped=0
done_() { echo "test_intel: $passed passed, $failed failed, $skipped skipped"; [ $failed -eq 0 ]; exit; }
skip() { skipped=1; echo "skipped: $1"; done_; }
check() { # NAME COMMAND...
    name=$1; shift
    if "$@" >$out/$name.txt 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name:"; grep -E 'FAILED|not|wrong' $out/$name.txt | head -5; fi
}

[ -n "$LONG" ] || skip "Intel's OpenCL runtime: needs LONG=1"
[ "$(uname -m)" = x86_64 ] || skip "Intel's OpenCL runtime is for x86-64"
build/finetune devices 2>/dev/null | grep -q opencl || skip "Intel's OpenCL runtime: the tool is built without OpenCL, or there is no loader"
mkdir -p $out
if [ ! -e $out/venv/lib/libintelocl.so ]; then
    { $python -m venv $out/venv && $out/venv/bin/pip install intel-opencl-rt intel-cmplr-lib-rt tbb tcmlib
    } >$out/pip.txt 2>&1 || skip "Intel's OpenCL runtime: pip could not install it ($out/pip.txt)"
fi
rm -rf $out/cache $out/vendors
mkdir -p $out/cache $out/vendors
echo "$PWD/$out/venv/lib/libintelocl.so" >$out/vendors/intel.icd
export OCL_ICD_VENDORS="$PWD/$out/vendors" LD_LIBRARY_PATH="$PWD/$out/venv/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Compiling takes this runtime many seconds: the programs keep the kernels for each other.
export TEST_CACHE="$PWD/$out/cache"

build/finetune devices 2>&1 | grep -q 'Intel(R) OpenCL' || skip "Intel's OpenCL runtime: installed, but it does not start"
every_operator() { # each has a kernel that is right, but those that have none
    build/finetune devices --check --cache $out/cache >$out/devices.txt 2>&1 && cat $out/devices.txt &&
        grep -q '^ *softmax .* kernel$' $out/devices.txt && 
            ! grep -vE '^ *(custom|linear_cross_entropy|ctc_loss) ' $out/devices.txt | grep -E 'wrong|no kernel|processor$'
}
check operators every_operator
for test in test_opencl test_tensor; do check $test build/$test; done
done_
