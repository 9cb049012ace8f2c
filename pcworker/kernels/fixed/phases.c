/* Trains one trial in the arithmetic that README.md defines: the same bits on every machine.
 *
 * A weight update is a program of operations, the schedule of pcworker/equations/schedule.py. An
 * operation is a row of phases. The elements of a phase are independent of each other, and between
 * two phases is a barrier, so any number of workers may compute a phase in any order. On a CPU
 * there is one worker, and its elements are vectors. The same text compiles for a GPU, where a
 * thread is a worker, and its elements are numbers.
 *
 * The file is compiled for float, and with -DDOUBLE for double. Matrices lie row by row. There are
 * B samples, and n_l units in layer l. A row of n_l numbers takes stride[l] places, a multiple of
 * LANES. Nothing that counts reads the places beyond n_l. theta^{l+1} is [n_l, stride[l+1]], but
 * for the input layer's, which is [n_{l_max}, stride[l]]: a pixel's weights lie together, and a
 * pixel that is 0 costs nothing.
 */
#ifdef DOUBLE
typedef double real;
#else
typedef float real;
#endif

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define PHASE static __device__ __noinline__
#define UNROLL _Pragma("unroll")
typedef int int32_t;
typedef long long int64_t;
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807LL - 1)
enum { LANES = 1, ROWS = 4 };
typedef real V, Loose;
#ifdef DOUBLE
typedef int64_t I;
INLINE V fma_(V a, V b, V c) { return __fma_rn(a, b, c); }
INLINE V as_real(I i) { return __longlong_as_double(i); }
INLINE I as_integer(V v) { return __double_as_longlong(v); }
#else
typedef int32_t I;
INLINE V fma_(V a, V b, V c) { return __fmaf_rn(a, b, c); }
INLINE V as_real(I i) { return __int_as_float(i); }
INLINE I as_integer(V v) { return __float_as_int(v); }
#endif
INLINE V wide(real value) { return value; }
INLINE V if_less(V a, V b, V then, V otherwise) { return a < b ? then : otherwise; }
INLINE V if_at_most(V a, V b, V then, V otherwise) { return a <= b ? then : otherwise; }
#define WORKERS ((int)blockDim.x)
#define PHASES(call)                            \
    {                                           \
        Worker w = {(int)threadIdx.x, WORKERS}; \
        call;                                   \
        __syncthreads();                        \
    }
#else
#include <fenv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif
#define INLINE static inline __attribute__((always_inline))
#define PHASE static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 10 }; /* ROWS x 2 vectors are summed in registers */
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 5 };
#else
enum { BYTES = 16, ROWS = 5 };
#endif
enum { LANES = BYTES / sizeof(real) };
typedef real V __attribute__((vector_size(BYTES)));
typedef real Loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
#ifdef DOUBLE
typedef int64_t I __attribute__((vector_size(BYTES)));
#define FMA __builtin_fma
#else
#define FMA __builtin_fmaf
typedef int32_t I __attribute__((vector_size(BYTES)));
#endif
INLINE V fma_(V a, V b, V c) {
#if defined(__AVX512F__) && defined(DOUBLE)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(DOUBLE)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#else /* elsewhere the compiler finds the processor's instruction, or calls the C library's fma */
    V sum;
    for (int i = 0; i < LANES; i++)
        sum[i] = FMA(a[i], b[i], c[i]);
    return sum;
#endif
}
INLINE V as_real(I i) { return (V)i; }
INLINE I as_integer(V v) { return (I)v; }
INLINE V wide(real value) { return value - (V){0}; }
INLINE V either(I which, V then, V otherwise) {
    return (V)((which & (I)then) | (~which & (I)otherwise));
}
INLINE V if_less(V a, V b, V then, V otherwise) { return either(a < b, then, otherwise); }
INLINE V if_at_most(V a, V b, V then, V otherwise) { return either(a <= b, then, otherwise); }
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef TURN
#define TURN 1
#endif
/* A build for the tests has several workers, who take turns: 0, TURN, 2 TURN, ... mod WORKERS. */
#define PHASES(call)                                 \
    for (int turn = 0; turn < WORKERS; turn++) {     \
        Worker w = {turn * TURN % WORKERS, WORKERS}; \
        call;                                        \
    }
#endif

enum {
    PREDICT, BEGIN, ACTIVATE, CLAMP, COMPARE, LISTEN, MOVE, LEARN, LEARN_GATED, PULL_BACK,
    COUNT /* on a GPU only: how many predictions are right */
};
enum { SIGMOID, TANH, RELU, EXPONENTIAL };

typedef struct { int first, step; } Worker; /* it has the elements first, first + step, ... */
typedef struct { int32_t at; real value; } Entry;

typedef struct { /* the minibatches of some updates, all of one seed */
    int32_t updates, batch;
    const int32_t *sample_rows; /* [updates, B] + 1: where in `samples` a row begins */
    const Entry *samples;       /* by sample: its pixels that are not 0 */
    const int32_t *pixel_rows;  /* [updates, n_{l_max}] + 1: where in `pixels` a row begins */
    const Entry *pixels;        /* by pixel: the samples in which it is not 0 */
    const real *targets;        /* [updates, B, n_0] */
    const real *const *noise;   /* by l: [updates, B, n_l], standard normals; NULL: there is none */
} Batches;

typedef struct { /* a trial, and the memory for everything that is computed on the way */
    int32_t l_max, instructions, t_d, f, textbook;
    real gamma, sigma, rate;
    const int32_t *width, *stride; /* by l */
    const int32_t *program;        /* [instructions, 2]: an operation and its layer */
    real *const *theta;            /* by l: theta^{l+1} */
    real *const *transposed;       /* by l < l_max - 1: theta^{l+1} as [n_{l+1}, stride[l]] */
    real *const *bias;             /* by l: [stride[l]]; NULL: there are none */
    real *const *a, *const *d;     /* by l [B, stride[l]]: x = a + d, or x = d in textbook form */
    real *const *fx, *const *mu, *const *eps, *const *buffer;
    int32_t *const *phi, *const *quiet;
    double *squares;               /* [B, n_0]: squared output errors at t = 0, added up */
} Trial;

INLINE V load(const real *p) { return *(const Loose *)p; }
INLINE void store(real *p, V v) { *(Loose *)p = v; }

/* ---- f ---- */

#ifdef DOUBLE
#define MAGIC 0x1.8p+52 /* x + MAGIC has x, rounded to an integer, in its lowest bits */
#define MAGIC_BITS 0x4338000000000000
#define BIAS 1023
#define MANTISSA 52
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fefa3000p-1
#define LN2_LOW 0x1.3de6af278ece6p-42
#define SIGN INT64_MIN
#define LEAST -746 /* exp is 0 below */
#define PART 512
#define TWO_TO_MINUS_PART 0x1p-512
#define SATURATED 40 /* tanh is 1 from half of it on */
#else
#define MAGIC 0x1.8p+23f
#define MAGIC_BITS 0x4b400000
#define BIAS 127
#define MANTISSA 23
#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define SIGN INT32_MIN
#define LEAST -104
#define PART 64
#define TWO_TO_MINUS_PART 0x1p-64f
#define SATURATED 20
#endif

INLINE V two_to_the(I q) { return as_real((q + BIAS) << MANTISSA); }

/* x = q ln 2 + s with an integer q. Returns exp(s) - 1. */
INLINE V reduced(V x, I *q) {
    V shifted = x * wide(LOG2_E) + wide(MAGIC), n = shifted - wide(MAGIC);
    *q = as_integer(shifted) - MAGIC_BITS;
    V s = fma_(n, wide(-LN2_HIGH), x);
    s = fma_(n, wide(-LN2_LOW), s);
#ifdef DOUBLE
    V u = wide(0x1.1f0e4c4ecd775p-29);
    u = fma_(u, s, wide(0x1.af68a28cc800ap-26));
    u = fma_(u, s, wide(0x1.27e52e0fcd573p-22));
    u = fma_(u, s, wide(0x1.71ddf1629e6cep-19));
    u = fma_(u, s, wide(0x1.a01a01780879ep-16));
    u = fma_(u, s, wide(0x1.a01a01b3603f5p-13));
    u = fma_(u, s, wide(0x1.6c16c16c20ba0p-10));
    u = fma_(u, s, wide(0x1.111111110eb39p-7));
    u = fma_(u, s, wide(0x1.555555555553ep-5));
    u = fma_(u, s, wide(0x1.555555555555cp-3));
#else
    V u = wide(0x1.a057b4p-13f);
    u = fma_(u, s, wide(0x1.6d2d92p-10f));
    u = fma_(u, s, wide(0x1.11114cp-7f));
    u = fma_(u, s, wide(0x1.5554f4p-5f));
    u = fma_(u, s, wide(0x1.555556p-3f));
#endif
    u = fma_(u, s, wide(0.5f));
    return fma_(s * s, u, s);
}

/* exp(x), for x <= 0. The power of two is multiplied in two parts, because it may be subnormal.
 * Where it is 0 it is not computed: some processors take a hundred times as long for a product that
 * is too small for a normal number, and activities that leave every bound make many of them. */
INLINE V exponential(V x) {
    I q;
    V seen = if_less(x, wide(LEAST), wide(0), x);
    V p = wide(1) + reduced(seen, &q), power = p * two_to_the(q + PART) * wide(TWO_TO_MINUS_PART);
    return if_less(x, wide(LEAST), wide(0), power);
}

/* e / (1 + e) for x < 0, and 1 / (1 + e) otherwise, with e = exp(-|x|) */
INLINE V sigmoid(V x) {
    V e = exponential(as_real(as_integer(x) | SIGN));
    return if_less(x, wide(0), e, wide(1)) / (wide(1) + e);
}

/* tanh |x| = e / (e + 2) with e = exp(2 |x|) - 1 = 2^q (exp(s) - 1) + (2^q - 1) */
INLINE V tanh_(V x) {
    I q;
    V y = if_less(x, wide(0), wide(0) - x, x);
    y = y + y;
    y = if_less(wide(SATURATED), y, wide(SATURATED), y);
    V p = reduced(y, &q), power = two_to_the(q);
    V e = fma_(power, p, power - wide(1)), r = e / (e + wide(2));
    return if_less(x, wide(0), wide(0) - r, r);
}

INLINE V f_of(int f, V x) {
    if (f == SIGMOID) return sigmoid(x);
    if (f == TANH) return tanh_(x);
    if (f == RELU) return if_at_most(x, wide(0), wide(0), x);
    return exponential(x);
}

/* f'(x) g, for fx = f(x) */
INLINE V f_back(int f, V g, V fx) {
    if (f == SIGMOID) return g * (wide(1) - fx) * fx;
    if (f == TANH) return g * (wide(1) - fx * fx);
    return if_at_most(fx, wide(0), wide(0), g);
}

/* ---- Products ---- */

/* A matrix that is read in either direction: element (i, k) is at[i * row + k * column]. */
typedef struct { const real *at; int row, column; } View;

/* What becomes of the sums: C = sum, C = sum + bias, or C = fma(rate, sum, C). */
typedef struct { real *C; int row; const real *bias; int learns; real rate; } Goal;

INLINE void put(Goal goal, int i, int j, V sum) {
    real *at = goal.C + i * goal.row + j;
    if (goal.learns) sum = fma_(wide(goal.rate), sum, load(at));
    if (goal.bias) sum = sum + load(goal.bias + j);
    store(at, sum);
}

/* Rows i .. i + rows - 1 and some vectors, from column j on, of A B. A sum goes through k in order,
 * by fused multiply-adds. */
INLINE void tile(int rows, int vectors, int i, int j, int K, View A, const real *B, int b_row,
                 Goal goal) {
    V sum[ROWS][2];
    const real *a = A.at + i * A.row, *b = B + j;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = wide(0);
    for (int k = 0; k < K; k++, a += A.column, b += b_row) {
        V at[2];
        UNROLL for (int v = 0; v < vectors; v++) at[v] = load(b + v * LANES);
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = fma_(wide(a[r * A.row]), at[v], sum[r][v]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++) put(goal, i + r, j + v * LANES, sum[r][v]);
}

#define TILE(rows) case rows: tile(rows, vectors, i, j, K, A, B, b_row, goal); break;
INLINE void tile_of(int rows, int vectors, int i, int j, int K, View A, const real *B, int b_row,
                    Goal goal) {
    switch (rows) {
        TILE(1) TILE(2) TILE(3) TILE(4)
#ifndef __CUDACC__
        TILE(5)
#if defined(__AVX512F__)
        TILE(6) TILE(7) TILE(8) TILE(9) TILE(10)
#endif
#endif
    }
}

/* A [M, K] times B [K, N], where N is a multiple of LANES. */
PHASE void product(Worker w, int M, int N, int K, View A, const real *B, int b_row, Goal goal) {
    int tiles = (M + ROWS - 1) / ROWS, pairs = (N + 2 * LANES - 1) / (2 * LANES);
    for (int item = w.first; item < tiles * pairs; item += w.step) {
        int at = item % tiles, j = item / tiles * 2 * LANES;
        int i = at * M / tiles, rows = (at + 1) * M / tiles - i;
        if (j + LANES < N) tile_of(rows, 2, i, j, K, A, B, b_row, goal);
        else tile_of(rows, 1, i, j, K, A, B, b_row, goal);
    }
}

/* mu of the layer below the input, of one sample. A sum leaves out the pixels that are 0. */
INLINE void sum_pixels(const Trial *t, const Batches *b, int l, int i, const int32_t *row, int j,
                       int vectors) {
    V sum[2];
    int N = t->stride[l];
    const real *theta = t->theta[l] + j;
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = wide(0);
    for (const Entry *e = b->samples + row[0]; e < b->samples + row[1]; e++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = fma_(wide(e->value), load(theta + (int64_t)e->at * N + v * LANES), sum[v]);
    Goal goal = {t->mu[l], N, t->bias ? t->bias[l] : 0, 0, 0};
    UNROLL for (int v = 0; v < vectors; v++) put(goal, i, j + v * LANES, sum[v]);
}

PHASE void predict_from_pixels(Worker w, const Trial *t, const Batches *b, int update, int l) {
    int N = t->stride[l], B = b->batch;
    const int32_t *rows = b->sample_rows + (int64_t)update * B;
    for (int j = 0; j < N; j += 2 * LANES)
        for (int i = w.first; i < B; i += w.step) {
            if (j + LANES < N) sum_pixels(t, b, l, i, rows + i, j, 2);
            else sum_pixels(t, b, l, i, rows + i, j, 1);
        }
}

/* theta of one pixel. If the pixel is 0 in all samples, its weights are not touched. */
INLINE void change_pixel(const Trial *t, const Batches *b, int l, const real *eps, int k,
                         const int32_t *row, int j, int vectors) {
    V sum[2];
    int N = t->stride[l];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = wide(0);
    for (const Entry *e = b->pixels + row[0]; e < b->pixels + row[1]; e++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = fma_(load(eps + e->at * N + j + v * LANES), wide(e->value), sum[v]);
    Goal goal = {t->theta[l] + (int64_t)k * N, 0, 0, 1, t->rate};
    UNROLL for (int v = 0; v < vectors; v++) put(goal, 0, j + v * LANES, sum[v]);
}

PHASE void learn_from_pixels(Worker w, const Trial *t, const Batches *b, int update, int l,
                             const real *eps) {
    int N = t->stride[l], K = t->width[l + 1];
    const int32_t *rows = b->pixel_rows + (int64_t)update * K;
    for (int j = 0; j < N; j += 2 * LANES)
        for (int k = w.first; k < K; k += w.step) {
            if (rows[k] == rows[k + 1]) continue;
            if (j + LANES < N) change_pixel(t, b, l, eps, k, rows + k, j, 2);
            else change_pixel(t, b, l, eps, k, rows + k, j, 1);
        }
}

/* ---- Phases ---- */

PHASE void transpose(Worker w, const Trial *t, int l) {
    int n = t->width[l], m = t->width[l + 1];
    for (int k = w.first; k < m; k += w.step)
        for (int j = 0; j < n; j++)
            t->transposed[l][k * t->stride[l] + j] = t->theta[l][j * t->stride[l + 1] + k];
}

PHASE void learn_bias(Worker w, const Trial *t, int B, int l, const real *eps) {
    int N = t->stride[l];
    for (int j = w.first * LANES; j < N; j += w.step * LANES) {
        V sum = wide(0);
        for (int i = 0; i < B; i++) sum = sum + load(eps + i * N + j);
        store(t->bias[l] + j, fma_(wide(t->rate), sum, load(t->bias[l] + j)));
    }
}

PHASE void begin(Worker w, const Trial *t, const Batches *b, int update, int l) {
    int n = t->width[l], N = t->stride[l];
    for (int i = w.first; i < b->batch; i += w.step) {
        real *a = t->a[l] + i * N, *d = t->d[l] + i * N;
        const real *mu = t->mu[l] + i * N;
        for (int j = 0; j < N; j++) {
            a[j] = mu[j];
            d[j] = t->textbook ? mu[j] : 0;
        }
        if (!b->noise) continue;
        const real *noise = b->noise[l] + ((int64_t)update * b->batch + i) * n;
        for (int j = 0; j < n; j++) {
            real shift = t->sigma * noise[j];
            d[j] = t->textbook ? mu[j] + shift : shift;
        }
    }
}

PHASE void clamp(Worker w, const Trial *t, const Batches *b, int update) {
    int n = t->width[0], N = t->stride[0];
    const real *target = b->targets + (int64_t)update * b->batch * n;
    for (int i = w.first; i < b->batch; i += w.step)
        for (int j = 0; j < n; j++) {
            real s = target[i * n + j], mu = t->mu[0][i * N + j], error = s - mu;
            t->a[0][i * N + j] = mu;
            t->d[0][i * N + j] = t->textbook ? s : error;
            t->squares[i * n + j] += (double)error * error;
        }
}

PHASE void forget(Worker w, const Trial *t, int size, int l) {
    for (int i = w.first; i < size; i += w.step) t->quiet[l][i] = t->t_d;
}

INLINE void activate_by(Worker w, const Trial *t, int size, int l, int f) {
    const real *a = t->a[l], *d = t->d[l];
    for (int i = w.first * LANES; i < size; i += w.step * LANES) {
        V x = load(d + i);
        if (!t->textbook) x = load(a + i) + x;
        store(t->fx[l] + i, f_of(f, x));
    }
}

PHASE void activate(Worker w, const Trial *t, int size, int l) {
    if (t->f == SIGMOID) activate_by(w, t, size, l, SIGMOID);
    if (t->f == TANH) activate_by(w, t, size, l, TANH);
    if (t->f == RELU) activate_by(w, t, size, l, RELU);
}

PHASE void compare(Worker w, const Trial *t, int size, int l) {
    const real *a = t->a[l], *d = t->d[l], *mu = t->mu[l];
    for (int i = w.first * LANES; i < size; i += w.step * LANES) {
        V from = load(mu + i);
        if (!t->textbook) from = from - load(a + i);
        store(t->eps[l] + i, load(d + i) - from);
    }
}

PHASE void listen(Worker w, const Trial *t, int size, int l) {
    int32_t *quiet = t->quiet[l];
    for (int i = w.first; i < size; i += w.step) {
        int heard = t->eps[l][i] != 0;
        t->phi[l][i] = heard & (quiet[i] >= t->t_d);
        quiet[i] = heard ? 0 : quiet[i] + 1;
    }
}

PHASE void gate(Worker w, const Trial *t, int size, int l) {
    for (int i = w.first; i < size; i += w.step)
        t->buffer[l][i] = t->phi[l][i] ? t->eps[l][i] : 0;
}

INLINE void change_activity(Worker w, const Trial *t, int size, int l, int f) {
    for (int i = w.first * LANES; i < size; i += w.step * LANES) {
        V pulled = f_back(f, load(t->buffer[l] + i), load(t->fx[l] + i));
        V change = (pulled - load(t->eps[l] + i)) * wide(t->gamma);
        store(t->d[l] + i, load(t->d[l] + i) + change);
    }
}

PHASE void move(Worker w, const Trial *t, int size, int l) {
    if (t->f == SIGMOID) change_activity(w, t, size, l, SIGMOID);
    if (t->f == TANH) change_activity(w, t, size, l, TANH);
    if (t->f == RELU) change_activity(w, t, size, l, RELU);
}

PHASE void pull_back(Worker w, const Trial *t, int size, int l) {
    for (int i = w.first * LANES; i < size; i += w.step * LANES)
        store(t->eps[l] + i, f_back(t->f, load(t->buffer[l] + i), load(t->fx[l] + i)));
}

/* ---- Operations: each is some phases ---- */

INLINE void predict(const Trial *t, const Batches *b, int update, int l) {
    if (l == t->l_max - 1) {
        PHASES(predict_from_pixels(w, t, b, update, l))
    } else {
        View fx = {t->fx[l + 1], t->stride[l + 1], 1};
        Goal mu = {t->mu[l], t->stride[l], t->bias ? t->bias[l] : 0, 0, 0};
        PHASES(product(w, b->batch, t->stride[l], t->width[l + 1], fx, t->transposed[l],
                       t->stride[l], mu))
    }
}

/* buffer^l = eps^{l-1} theta^l */
INLINE void pull(const Trial *t, int B, int l) {
    View eps = {t->eps[l - 1], t->stride[l - 1], 1};
    Goal goal = {t->buffer[l], t->stride[l], 0, 0, 0};
    PHASES(product(w, B, t->stride[l], t->width[l - 1], eps, t->theta[l - 1], t->stride[l], goal))
}

/* theta^{l+1} and its transposed copy get the same bits, for a product has no order. */
INLINE void learn(const Trial *t, const Batches *b, int update, int l, const real *eps) {
    int n = t->width[l], m = t->width[l + 1], N = t->stride[l], M = t->stride[l + 1];
    if (l == t->l_max - 1) {
        PHASES(learn_from_pixels(w, t, b, update, l, eps))
    } else {
        const real *fx = t->fx[l + 1];
        View eps_t = {eps, 1, N}, fx_t = {fx, 1, M};
        Goal theta = {t->theta[l], M, 0, 1, t->rate};
        Goal transposed = {t->transposed[l], N, 0, 1, t->rate};
        PHASES(product(w, n, M, b->batch, eps_t, fx, M, theta))
        PHASES(product(w, m, N, b->batch, fx_t, eps, N, transposed))
    }
    if (t->bias) PHASES(learn_bias(w, t, b->batch, l, eps))
}

INLINE void operate(const Trial *t, const Batches *b, int update, int operation, int l) {
    int size = b->batch * t->stride[l];
    switch (operation) {
    case PREDICT: predict(t, b, update, l); break;
    case BEGIN: PHASES(begin(w, t, b, update, l)) break;
    case ACTIVATE: PHASES(activate(w, t, size, l)) break;
    case CLAMP:
        PHASES(clamp(w, t, b, update))
        if (t->t_d)
            for (int k = 0; k < t->l_max; k++) PHASES(forget(w, t, b->batch * t->stride[k], k))
        break;
    case COMPARE: PHASES(compare(w, t, size, l)) break;
    case LISTEN: PHASES(listen(w, t, size, l)) break;
    case MOVE:
        pull(t, b->batch, l);
        PHASES(move(w, t, size, l))
        break;
    case LEARN: learn(t, b, update, l, t->eps[l]); break;
    case LEARN_GATED:
        PHASES(gate(w, t, size, l))
        learn(t, b, update, l, t->buffer[l]);
        break;
    case PULL_BACK:
        pull(t, b->batch, l);
        PHASES(pull_back(w, t, size, l))
        break;
    }
}

INLINE void make_updates(const Trial *t, const Batches *b) {
    for (int l = 0; l < t->l_max - 1; l++) PHASES(transpose(w, t, l))
    for (int update = 0; update < b->updates; update++)
        for (int i = 0; i < t->instructions; i++)
            operate(t, b, update, t->program[2 * i], t->program[2 * i + 1]);
}

#ifdef __CUDACC__
/* One block trains one trial. */
extern "C" __global__ void train(const Trial *trials, const Batches *batches) {
    make_updates(trials + blockIdx.x, batches + blockIdx.x);
}
#else

/* Rounds to nearest and keeps subnormal numbers, whatever the thread was set to. */
#define IN_OUR_ARITHMETIC(work)  \
    {                            \
        fenv_t before;           \
        fegetenv(&before);       \
        fesetenv(FE_DFL_ENV);    \
        work;                    \
        fesetenv(&before);       \
    }

/* Makes the weight updates of these minibatches. */
void train(const Trial *trial, const Batches *batches) {
    IN_OUR_ARITHMETIC(make_updates(trial, batches))
}

/* Lists the bytes of images [samples, n] that are not 0. Row i of the list ends before `rows[i + 1]`.
 * The place after the last entry is written to as well. */
void list_bytes(int32_t samples, int32_t n, const uint8_t *images, int64_t *rows, uint16_t *at,
                uint8_t *bytes) {
    int64_t entries = 0;
    for (int i = 0; i < samples; i++, images += n) {
        *rows++ = entries;
        for (int k = 0; k < n; k++) {
            at[entries] = k;
            bytes[entries] = images[k];
            entries += images[k] != 0;
        }
    }
    *rows = entries;
}

/* Puts the entries of one minibatch into the order of its pixels. `next[k]` is the number of those
 * of pixel k, and `sample_rows` says where the samples' entries begin. */
static void turn(int32_t B, int32_t n, const int32_t *sample_rows, const Entry *samples,
                 int32_t *pixel_rows, Entry *pixels, int32_t *next) {
    int32_t begin = sample_rows[0];
    for (int k = 0; k < n; k++) {
        int32_t count = next[k];
        pixel_rows[k] = next[k] = begin; /* from now on the place of the pixel's next entry */
        begin += count;
    }
    for (int i = 0; i < B; i++)
        for (int32_t e = sample_rows[i]; e < sample_rows[i + 1]; e++)
            pixels[next[samples[e].at]++] = (Entry){i, samples[e].value};
}

/* Lists the pixels of x [updates, B, n] that are not 0, in both orders of `Batches`. The place
 * after the last entry of `samples` is written to as well. `next` has room for n numbers. */
void gather(int32_t updates, int32_t B, int32_t n, const real *x, int32_t *sample_rows,
            Entry *samples, int32_t *pixel_rows, Entry *pixels, int32_t *next) {
    int32_t entries = 0;
    for (int update = 0; update < updates; update++, sample_rows += B, pixel_rows += n) {
        memset(next, 0, n * sizeof(int32_t));
        for (int i = 0; i < B; i++, x += n) {
            sample_rows[i] = entries;
            for (int k = 0; k < n; k++) {
                int counts = x[k] != 0;
                samples[entries] = (Entry){k, x[k]};
                entries += counts;
                next[k] += counts;
            }
        }
        sample_rows[B] = entries;
        turn(B, n, sample_rows, samples, pixel_rows, pixels, next);
    }
    *pixel_rows = entries;
}

/* Asks for the memory of an image's list, which lies anywhere: nothing has read it lately. */
static inline void fetch(const int64_t *row, const uint16_t *at, const uint8_t *bytes) {
    for (int64_t e = row[0]; e < row[1]; e += 32) __builtin_prefetch(at + e);
    for (int64_t e = row[0]; e < row[1]; e += 64) __builtin_prefetch(bytes + e);
}

/* The same for the images `order` [updates, B] of a list that `list_bytes` has made.
 *
 * values  [256]: what a byte stands for
 */
void gather_listed(int32_t updates, int32_t B, int32_t n, const int64_t *order, const int64_t *rows,
                   const uint16_t *at, const uint8_t *bytes, const real *values,
                   int32_t *sample_rows, Entry *samples, int32_t *pixel_rows, Entry *pixels,
                   int32_t *next) {
    enum { AHEAD = 4 };
    const int64_t *stop = order + (int64_t)updates * B;
    int32_t entries = 0;
    for (int update = 0; update < updates; update++, sample_rows += B, pixel_rows += n) {
        memset(next, 0, n * sizeof(int32_t));
        for (int i = 0; i < B; i++, order++) {
            if (stop - order > AHEAD) fetch(rows + order[AHEAD], at, bytes);
            sample_rows[i] = entries;
            for (int64_t e = rows[*order]; e < rows[*order + 1]; e++) {
                samples[entries++] = (Entry){at[e], values[bytes[e]]};
                next[at[e]]++;
            }
        }
        sample_rows[B] = entries;
        turn(B, n, sample_rows, samples, pixel_rows, pixels, next);
    }
    *pixel_rows = entries;
}

/* ---- Normals, as pcworker/data/streams.py draws them ---- */

static inline uint64_t random_number(uint64_t key, int64_t place) {
    uint64_t z = key + (uint64_t)(place + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline double horner(double x, const double *coefficients) {
    double sum = coefficients[0];
    for (int i = 1; i < 12; i++) sum = sum * x + coefficients[i];
    return sum;
}

/* sqrt(-2 ln v), where v is uniform in (0, 1]: m 2^e with sqrt(1/2) <= m < sqrt(2) */
static inline double radius(uint64_t z, const double *logarithm) {
    union { double number; int64_t bits; } v = {(double)(int64_t)((z >> 11) + 1) * 0x1p-53}, m;
    m.bits = (v.bits & 0xfffffffffffff) | 0x3fe0000000000000;
    int64_t small = m.number < 0x1.6a09e667f3bcdp-1;
    double e = (double)((v.bits >> 52) - 1022 - small), scaled = m.number * (double)(1 + small);
    double k = (scaled - 1) / (scaled + 1);
    return __builtin_sqrt(-2 * (e * 0x1.62e42fefa39efp-1 + (k + k) * horner(k * k, logarithm)));
}

/* Normals 2i and 2i + 1 of a stream, for `count` numbers i from `first` on.
 *
 * coefficients  [3, 12]: those of the logarithm, of the cosine and of the sine
 */
void normals(uint64_t key, int64_t first, int64_t count, const double *coefficients, double *to) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t w = random_number(key, 2 * (first + i) + 1);
        double r = radius(random_number(key, 2 * (first + i)), coefficients);
        double o = (double)(int64_t)((w >> 9) & 0x1fffffffffffff) * 0x1p-53 * 0x1.921fb54442d18p+0;
        double c = horner(o * o, coefficients + 12), s = horner(o * o, coefficients + 24) * o;
        double x = w >> 62 & 1 ? 0 - s : c, y = w >> 62 & 1 ? c : s; /* a quarter of a turn */
        to[2 * i] = r * (w >> 63 ? 0 - x : x);                       /* half a turn */
        to[2 * i + 1] = r * (w >> 63 ? 0 - y : y);
    }
}

/* ---- Single products and functions, for the reference: matrices lie without gaps ---- */

/* A row of the product for each row i of A, where the terms of an A of 0 are left out. */
static void product_without_zeros(int M, int N, int K, View A, const real *B, Goal goal) {
    for (int j = 0; j < N; j += LANES)
        for (int i = 0; i < M; i++) {
            V sum = wide(0);
            for (int k = 0; k < K; k++) {
                real a = A.at[i * A.row + k * A.column];
                if (a != 0) sum = fma_(wide(a), load(B + k * N + j), sum);
            }
            put(goal, i, j, sum);
        }
}

/* The same where A lies as its transpose: all chains grow by a term at a time, so that A is read as
 * it lies. With 500 samples that takes a third of the time. */
static void product_of_turned_without_zeros(int M, int N, int K, const real *A, const real *B,
                                            real *C) {
    memset(C, 0, (size_t)M * N * sizeof(real));
    for (int k = 0; k < K; k++, A += M)
        for (int i = 0; i < M; i++)
            if (A[i] != 0)
                for (int j = 0; j < N; j += LANES)
                    store(C + i * N + j, fma_(wide(A[i]), load(B + k * N + j), load(C + i * N + j)));
}

/* C [M, N] = A B, for any N: copies of B and C have rows of whole vectors. */
static void any_product(int M, int N, int K, View A, const real *B, int zeros, real *C) {
    Worker alone = {0, 1};
    int whole = (N + LANES - 1) / LANES * LANES;
    real *copies = N == whole ? 0 : calloc((size_t)(K + M) * whole, sizeof(real));
    real *b = copies ? copies : (real *)B, *c = copies ? copies + (size_t)K * whole : C;
    if (copies)
        for (int k = 0; k < K; k++) memcpy(b + k * whole, B + k * N, N * sizeof(real));
    Goal goal = {c, whole, 0, 0, 0};
    if (zeros) product(alone, M, whole, K, A, b, whole, goal);
    else if (A.row == 1) product_of_turned_without_zeros(M, whole, K, A.at, b, c);
    else product_without_zeros(M, whole, K, A, b, goal);
    if (copies)
        for (int i = 0; i < M; i++) memcpy(C + i * N, c + i * whole, N * sizeof(real));
    free(copies);
}

/* out [M, N] = A B. `turned` says that A lies as its transpose [K, M], and `zeros` whether terms
 * with an element of A that is 0 belong to the sums. */
void multiply(int M, int N, int K, const real *A, int turned, const real *B, int zeros, real *out) {
    View view = {A, turned ? 1 : K, turned ? M : 1};
    IN_OUR_ARITHMETIC(any_product(M, N, K, view, B, zeros, out))
}

/* out [B, n] += bias [n] */
void add_bias(int B, int n, const real *bias, real *out) {
    IN_OUR_ARITHMETIC(
        for (int i = 0; i < B; i++)
            for (int j = 0; j < n; j++) out[i * n + j] = out[i * n + j] + bias[j];)
}

/* out [n] = the sum of the rows of x [B, n], from the first to the last. */
void add_rows(int B, int n, const real *x, real *out) {
    IN_OUR_ARITHMETIC(
        for (int j = 0; j < n; j++) out[j] = 0;
        for (int i = 0; i < B; i++)
            for (int j = 0; j < n; j++) out[j] = out[j] + x[i * n + j];)
}

INLINE V some(const real *p, int count) {
    V v = wide(0);
    memcpy(&v, p, (count < LANES ? count : LANES) * sizeof(real));
    return v;
}

#define BY_VECTORS(result)                                                          \
    IN_OUR_ARITHMETIC(for (int i = 0; i < count; i += LANES) {                      \
        int rest = count - i;                                                       \
        V v = result;                                                               \
        memcpy(out + i, &v, (rest < LANES ? rest : LANES) * sizeof(real));          \
    })

/* out = f(x) */
void apply(int f, int count, const real *x, real *out) { BY_VECTORS(f_of(f, some(x + i, rest))) }

/* out = f'(x) g, for fx = f(x) */
void apply_back(int f, int count, const real *g, const real *fx, real *out) {
    BY_VECTORS(f_back(f, some(g + i, rest), some(fx + i, rest)))
}

/* out = y - s, and its squares are added to `squares`. */
void subtract(int count, const real *y, const real *s, real *out, double *squares) {
    IN_OUR_ARITHMETIC(for (int i = 0; i < count; i++) {
        real error = y[i] - s[i];
        out[i] = error;
        squares[i] += (double)error * error;
    })
}

/* theta = fma(-rate, gradient, theta) */
void descend(int count, real rate, const real *gradient, real *out) {
    BY_VECTORS(fma_(wide(-rate), some(gradient + i, rest), some(out + i, rest)))
}

#ifdef __clang__
#define COMPILER "" /* its version says its name */
#else
#define COMPILER "GCC "
#endif
#if defined(__AVX512F__)
#define UNITS "AVX-512"
#elif defined(__FMA__)
#define UNITS "AVX with FMA"
#elif defined(__x86_64__)
#define UNITS "x86-64 without FMA: the C library computes it"
#elif defined(__aarch64__)
#define UNITS "aarch64"
#else
#define UNITS "another processor"
#endif

/* By which compiler, and for which units of the processor, this file was compiled. */
const char *made_by(void) { return COMPILER __VERSION__ ", " UNITS; }
#endif
