/* What the C++ of PTX needs: ptx_code.py writes it. */
#pragma once
#include <stdint.h>

#include "emulated_gpu.h"

extern __attribute__((visibility("hidden"))) unsigned char shared_memory[];
/* The bytes of shared memory of a block: those that its source states and those of the launch. */
extern "C" uint32_t bytes_of_block;
uint32_t bytes_of_block;

/* The bits of a register as a number of another type of the same size. */
template <class T, class From> static inline T as(From from) { return emulated_bits<T>(from); }
template <class T> static constexpr uint32_t width(T) { return 8 * sizeof(T); }
static inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

/* A GPU gives any number for a division by 0. INT_MIN / -1 would end a program of the CPU. */
template <class T> static inline bool negates(T a, T b) {
    if (b == 0) emulated_failure("a whole number is divided by 0");
    return (T)-1 < 0 && b == (T)-1;
}
template <class T> static inline T quotient(T a, T b) { return negates(a, b) ? -a : a / b; }
template <class T> static inline T remainder(T a, T b) { return negates(a, b) ? 0 : a % b; }

[[noreturn]] static __attribute__((noinline, cold)) void failure(const char *what, const char *line) {
    static char message[500];
    __builtin_snprintf(message, sizeof(message), "%s: %s", what, line);
    emulated_failure(message);
}

/* Declares `at`, the place of some bytes that an instruction reads or writes at once. */
#define AT_GLOBAL(address, bytes, line)                                        \
    const uint64_t at = address;                                               \
    if (at % bytes) failure("an address is not aligned", line);
#define AT_SHARED(address, bytes, line)                                        \
    const uint32_t place = address;                                            \
    if (place % bytes) failure("an address is not aligned", line);             \
    if (place + (uint64_t)bytes > bytes_of_block)                              \
        failure("an address is beyond the shared memory of the block", line);  \
    unsigned char *const at = shared_memory + place;
