#!/bin/sh
# Looks for what the build and the tests need, and installs what is missing with apt where it may
# (as root, or with sudo), saying so; DEPS=no only looks. Without stb_image nothing that reads
# pictures can be built; without the others a few tests are skipped. "deps.sh bench": with what is
# timed beside.
missing=
need() { # a file that shows the package is there, and the package
    for file in $1; do [ -e "$file" ] && return; done
    missing="$missing $2"
}
need "/usr/include/stb/stb_image.h /usr/local/include/stb/stb_image.h" libstb-dev
command -v g++ >/dev/null || missing="$missing g++"
need "/usr/include/freetype2/ft2build.h /usr/local/include/freetype2/ft2build.h" libfreetype-dev
# OpenCL: headers to build with, the loader, a device that is the processor, CLBlast, a simulator
# that watches the kernels.
need "/usr/include/CL/cl.h /usr/local/include/CL/cl.h" opencl-c-headers
for place in /usr/lib /usr/lib/*-linux-gnu /usr/local/lib; do
    [ -e $place/libOpenCL.so.1 ] && loader=yes
    [ -e $place/libclblast.so.1 ] && clblast=yes
done
[ -n "$loader" ] || missing="$missing ocl-icd-libopencl1"
[ -n "$clblast" ] || missing="$missing libclblast1"
need "/etc/OpenCL/vendors/*.icd" pocl-opencl-icd
# Keras' files.
need "/usr/lib/*/libhdf5_serial.so* /usr/lib/libhdf5.so*" libhdf5-dev
command -v oclgrind >/dev/null || missing="$missing oclgrind"
if [ "$1" = bench ]; then
    need "/usr/lib/*/libdnnl.so.2" libdnnl2
    need "/usr/lib/*/libopenblas.so.0 /usr/lib/*/openblas-*/libopenblas.so.0" libopenblas0-pthread
fi
[ -z "$missing" ] && exit 0

if [ "$DEPS" = no ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing; on Debian: apt-get install$missing" >&2
    exit 0
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && as_root=sudo
    if [ -z "$as_root" ]; then
        echo "missing:$missing; please run as root: apt-get install$missing" >&2
        exit 0
    fi
fi
echo "installing with apt-get:$missing"
$as_root apt-get update -qq >/dev/null 2>&1
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing \
    >/dev/null 2>&1 || { echo "apt-get could not install:$missing" >&2; exit 1; }
