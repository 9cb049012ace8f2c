/* The words of CUDA for a C++ compiler: a kernel of ours becomes a program of the CPU, which
 * emulated_gpu.cpp runs. It includes no header of the system, because CUDA sources define the types
 * of <stdint.h> themselves.
 */
#pragma once

#define __CUDACC__ 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ /* emulated_gpu.py makes variables of a block static */
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict

#ifdef REAL_THREADS
#define OF_A_THREAD thread_local
#else
#define OF_A_THREAD
#endif

struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };

extern OF_A_THREAD dim3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

void __syncthreads();
void __syncwarp(unsigned mask = ~0u);
/* What the lane of this number in the warp passes at the same time. */
unsigned long long emulated_exchange(unsigned mask, unsigned long long mine, int lane);
/* Ends the launch with this message. */
[[noreturn]] void emulated_failure(const char *message);

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline double __dsqrt_rn(double v) { return __builtin_sqrt(v); }

template <class To, class From> inline To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof(to));
    return to;
}
inline float __int_as_float(int i) { return emulated_bits<float>(i); }
inline int __float_as_int(float v) { return emulated_bits<int>(v); }
inline float __uint_as_float(unsigned i) { return emulated_bits<float>(i); }
inline unsigned __float_as_uint(float v) { return emulated_bits<unsigned>(v); }
inline double __longlong_as_double(long long i) { return emulated_bits<double>(i); }
inline long long __double_as_longlong(double v) { return emulated_bits<long long>(v); }

inline int __ffs(int i) { return __builtin_ffs(i); }
inline int __ffsll(long long i) { return __builtin_ffsll(i); }
inline int __popc(unsigned i) { return __builtin_popcount(i); }
inline int __popcll(unsigned long long i) { return __builtin_popcountll(i); }
inline int __clz(int i) { return i ? __builtin_clz(i) : 32; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
template <class T> inline T __ldg(const T *p) { return *p; }

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __threadfence(); }
inline int atomicAdd(int *p, int n) { return __atomic_fetch_add(p, n, __ATOMIC_RELAXED); }
inline int atomicOr(int *p, int bits) { return __atomic_fetch_or(p, bits, __ATOMIC_RELAXED); }
inline int atomicExch(int *p, int value) { return __atomic_exchange_n(p, value, __ATOMIC_RELAXED); }
inline int atomicMax(int *p, int n) {
    int old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < n && !__atomic_compare_exchange_n(p, &old, n, true, __ATOMIC_RELAXED,
                                                   __ATOMIC_RELAXED)) {
    }
    return old;
}

inline int emulated_lane() { return (int)threadIdx.x % warpSize; }
/* In all these, each thread of the warp takes part. */
template <class T> inline T __shfl_sync(unsigned mask, T value, int lane) {
    unsigned long long bits = 0;
    static_assert(sizeof(T) <= sizeof(bits));
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = emulated_exchange(mask, bits, lane % warpSize);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return __shfl_sync(mask, value, emulated_lane() ^ bits);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T value, int by) {
    int from = emulated_lane() + by;
    return __shfl_sync(mask, value, from < warpSize ? from : emulated_lane());
}
unsigned __ballot_sync(unsigned mask, int votes);
inline int __any_sync(unsigned mask, int votes) { return __ballot_sync(mask, votes) != 0; }
inline int __all_sync(unsigned mask, int votes) { return __ballot_sync(mask, !votes) == 0; }
