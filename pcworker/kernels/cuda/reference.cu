/* The single products and functions of the reference on a GPU: a thread computes an element. The
 * arguments are those of the functions of the same names in phases.c. Matrices lie without gaps. */
#include "phases.c"

#define EACH(i, count)                                                                  \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count);       \
         i += (int64_t)gridDim.x * blockDim.x)

extern "C" __global__ void multiply(int64_t M, int64_t N, int64_t K, const real *A, int64_t turned,
                                    const real *B, int64_t zeros, real *out) {
    int64_t row = turned ? 1 : K, column = turned ? M : 1;
    EACH(at, M * N) {
        const real *a = A + at / N * row, *b = B + at % N;
        real sum = 0;
        _Pragma("unroll 8") for (int64_t k = 0; k < K; k++) {
            real factor = a[k * column], more = fma_(factor, b[k * N], sum);
            sum = zeros || factor != 0 ? more : sum;
        }
        out[at] = sum;
    }
}

extern "C" __global__ void add_bias(int64_t B, int64_t n, const real *bias, real *out) {
    EACH(i, B * n) out[i] = out[i] + bias[i % n];
}

extern "C" __global__ void add_rows(int64_t B, int64_t n, const real *x, real *out) {
    EACH(j, n) {
        real sum = 0;
        for (int64_t i = 0; i < B; i++) sum = sum + x[i * n + j];
        out[j] = sum;
    }
}

extern "C" __global__ void apply(int64_t f, int64_t count, const real *x, real *out) {
    EACH(i, count) out[i] = f_of(f, x[i]);
}

extern "C" __global__ void apply_back(int64_t f, int64_t count, const real *g, const real *fx,
                                      real *out) {
    EACH(i, count) out[i] = f_back(f, g[i], fx[i]);
}

extern "C" __global__ void subtract(int64_t count, const real *y, const real *s, real *out,
                                    double *squares) {
    EACH(i, count) {
        real error = y[i] - s[i];
        out[i] = error;
        squares[i] += (double)error * error;
    }
}

/* `rate` is a double, which is rounded to a real here, as it is on its way to the C function. */
extern "C" __global__ void descend(int64_t count, int64_t rate, const real *gradient, real *out) {
    real step = -(real)__longlong_as_double(rate);
    EACH(i, count) out[i] = fma_(step, gradient[i], out[i]);
}

/* Copies the minibatch of the next update to x [B, n] and target [B, classes], and counts it.
 *
 * order  [updates, B]: which samples
 * codes  the targets of a wrong class and of the right one
 */
extern "C" __global__ void take_batch(const int64_t *order, int64_t *next, int64_t B, int64_t n,
                                      int64_t classes, const unsigned char *images,
                                      const int64_t *labels, const real *values, const real *codes,
                                      real *x, real *target) {
    const int64_t *chosen = order + *next * B;
    EACH(i, B * n) x[i] = values[images[chosen[i / n] * n + i % n]];
    EACH(i, B * classes) target[i] = codes[labels[chosen[i / classes]] == i % classes];
}

extern "C" __global__ void count_update(int64_t *next) {
    EACH(i, 1) *next += 1;
}

/* found becomes 1 if one of `count` values is not finite. */
extern "C" __global__ void find_nonfinite(int64_t count, const real *values, int64_t *found) {
    EACH(i, count) if (!(values[i] - values[i] == 0)) *found = 1;
}
