#!/bin/sh
# The small cases of test_opencl.c under Oclgrind, a simulator of an OpenCL device that reports data
# races, accesses outside of a buffer and wrong calls. It is used as a driver (the loader is told so),
# for its own start program brings a second compiler into a process that may have one already.
driver=$(ls /usr/lib/oclgrind/liboclgrind-rt-icd.so 2>/dev/null)
if [ -z "$driver" ] || [ ! -x build/test_opencl ]; then
    echo "test_oclgrind: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
echo "$driver" >build/oclgrind.icd
OCL_ICD_VENDORS=$PWD/build/oclgrind.icd OCLGRIND_DATA_RACES=1 OCLGRIND_CHECK_API=1 \
    build/test_opencl --brief >build/oclgrind.txt 2>&1
status=$?
passed=0 failed=0
count=$(grep -E '^test_opencl: [1-9][0-9]* passed, 0 failed, 0 skipped$' build/oclgrind.txt)
if [ $status -eq 0 ] && [ -n "$count" ]; then passed=1
else failed=1; tail -5 build/oclgrind.txt; fi
if [ "$(wc -l <build/oclgrind.txt)" -eq 1 ]; then passed=$((passed + 1))
else failed=$((failed + 1)); head -20 build/oclgrind.txt; fi # it reports by lines of its own
rm -f build/oclgrind.icd build/oclgrind.txt
echo "test_oclgrind: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
