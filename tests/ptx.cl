/* ptx.cl - what of OpenCL C's library kernels.cl calls, for clang's own back end for NVIDIA's GPUs,
   which has none (test_ptx.sh). Not what a driver has: approximate, or not there at all. */
#include <opencl-c-base.h>
#define OVERLOAD __attribute__((overloadable, always_inline))

size_t get_local_id(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_tid_x() : d == 1 ? __nvvm_read_ptx_sreg_tid_y()
                                                          : __nvvm_read_ptx_sreg_tid_z();
}
size_t get_group_id(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_ctaid_x() : d == 1 ? __nvvm_read_ptx_sreg_ctaid_y()
                                                            : __nvvm_read_ptx_sreg_ctaid_z();
}
size_t get_local_size(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_ntid_x() : d == 1 ? __nvvm_read_ptx_sreg_ntid_y()
                                                           : __nvvm_read_ptx_sreg_ntid_z();
}
size_t get_global_id(uint d) { return get_group_id(d) * get_local_size(d) + get_local_id(d); }
#define barrier(what) __syncthreads()

int OVERLOAD min(int a, int b) { return a < b ? a : b; }
int OVERLOAD max(int a, int b) { return a > b ? a : b; }
float OVERLOAD min(float a, float b) { return a < b ? a : b; }
float OVERLOAD max(float a, float b) { return a > b ? a : b; }
float OVERLOAD fmin(float a, float b) { return a < b ? a : b; }
float OVERLOAD fmax(float a, float b) { return a > b ? a : b; }
float fabs(float x) { return x < 0.0f ? -x : x; }
float exp(float x) { return __nvvm_ex2_approx_f(x * 1.442695041f); }
float log(float x) { return __nvvm_lg2_approx_f(x) * 0.693147181f; }
float sqrt(float x) { return __nvvm_sqrt_rn_f(x); }
float pow(float x, float p) { return exp(p * log(x)); }
float expm1(float x) { return exp(x) - 1.0f; }
float log1p(float x) { return log(1.0f + x); }
float tanh(float x) { return 1.0f - 2.0f / (1.0f + exp(2.0f * x)); }
float erf(float x) { return tanh(1.128379167f * x); }
float floor(float x) { return (float)(int)x; }
float ceil(float x) { return -floor(-x); }
float rint(float x) { return floor(x + 0.5f); }
float16 OVERLOAD vload16(size_t at, __global const float *from)
{
    float16 v;
    int i;
    for (i = 0; i < 16; ++i) v[i] = from[16 * at + i];
    return v;
}
float16 OVERLOAD vload16(size_t at, __private const float *from)
{
    float16 v;
    int i;
    for (i = 0; i < 16; ++i) v[i] = from[16 * at + i];
    return v;
}
void OVERLOAD vstore16(float16 v, size_t at, __global float *to)
{
    int i;
    for (i = 0; i < 16; ++i) to[16 * at + i] = v[i];
}
void OVERLOAD vstore16(float16 v, size_t at, __private float *to)
{
    int i;
    for (i = 0; i < 16; ++i) to[16 * at + i] = v[i];
}
