/* Trains one trial. Everything between two weight updates is one pass over data that stay in the
 * processor's cache. The operations are those of pcworker/equations/inference.py (Eq. 5-9), and a
 * trial's program is its schedule. Each operation gives the bits that torch gives, which
 * pcworker/kernels/fused/agreement.py tries before it lets a shard be trained here.
 *
 * Matrices are float32, row by row. There are B samples, and n_l units in layer l. A row of layer 0
 * has stride[0] places, filled up with zeros. A hidden layer's width is a multiple of 16.
 * theta^{l+1} is [n_l, n_{l+1}], but for the input layer's, which is [n_{l_max}, n_l]: a pixel's
 * weights lie together, and a pixel that is 0 costs nothing.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 10 }; /* ROWS x 2 vectors are summed in registers */
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, ROWS = 5 };
#else
#error "needs AVX2 with FMA, or AVX-512"
#endif

enum { MAX_LAYERS = 64 };
enum { PREDICT, BEGIN, ACTIVATE, CLAMP, COMPARE, LISTEN, MOVE, LEARN, LEARN_GATED, PULL_BACK };
enum { BY_FMA, BY_LANES, BY_LIBRARY }; /* how a product adds up: see predict */

typedef float V __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float V4 __attribute__((vector_size(16)));
typedef float V8 __attribute__((vector_size(32)));
typedef float Loose8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef void Gemm(const char *, const char *, const int *, const int *, const int *, const float *,
                  const float *, const int *, const float *, const int *, const float *, float *,
                  const int *);

typedef struct { int32_t at; float value; } Entry;

typedef struct { /* the minibatches of some updates, all of one seed */
    int32_t updates, batch;
    const int32_t *sample_rows; /* [updates, blocks, B] + 1: where in `samples` a row begins */
    const Entry *samples;       /* by block and sample: the block's pixels that are not 0 */
    const int32_t *pixel_rows;  /* [updates, n_{l_max}] + 1: where in `pixels` a row begins */
    const Entry *pixels;        /* by pixel: the samples in which it is not 0 */
    const float *targets;       /* [updates, B, n_0] */
    const float *const *noise;  /* by l: [updates, B, n_l], standard normals; NULL: there is none */
} Batches;

typedef struct { /* a trial, and the memory for everything that is computed on the way */
    int32_t l_max, instructions, block, t_d;
    float gamma, sigma, rate;
    const int32_t *width, *stride; /* by l; stride[l] places from one row of layer l to the next */
    const int32_t *order;          /* by l: BY_FMA, ... */
    const int32_t *program;        /* [instructions, 2]: an operation and its layer */
    Gemm *gemm;
    float *const *theta;           /* by l: theta^{l+1} */
    float *const *transposed;      /* by l: theta^{l+1} as predict needs it: [n_{l+1}, stride[l]] */
    float *const *a, *const *d;    /* by l: x = a + d, see pcworker/equations/activity.py */
    float *const *fx, *const *mu, *const *eps, *const *buffer;
    int32_t *const *phi, *const *quiet;
    float *change;                 /* the change of one layer's weights */
    float *heard;                  /* the errors of one layer where phi = 1, and 0 elsewhere */
    double *squares;               /* [B, n_0]: squared output errors at t = 0, added up */
} Trial;

#define INLINE static inline __attribute__((always_inline))

INLINE V load(const float *p) { return *(const Loose *)p; }
INLINE void store(float *p, V v) { *(Loose *)p = v; }
INLINE V all(float value) { return value - (V){0}; }

#if defined(__AVX512F__)
typedef __m512i Integers;
INLINE V fma_(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
INLINE V repeat4(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
INLINE V swap_pairs(V v) { return _mm512_permute_ps(v, 0x4e); }
INLINE V swap_neighbours(V v) { return _mm512_permute_ps(v, 0xb1); }
INLINE Integers rounded(V x) { return _mm512_cvtps_epi32(x); }
INLINE Integers halved(Integers i) { return _mm512_srai_epi32(i, 1); }
INLINE Integers difference(Integers a, Integers b) { return _mm512_sub_epi32(a, b); }
INLINE V as_floats(Integers i) { return _mm512_cvtepi32_ps(i); }
INLINE V two_to_the(Integers i) {
    return (V)_mm512_slli_epi32(_mm512_add_epi32(i, _mm512_set1_epi32(127)), 23);
}
INLINE V if_less(V a, V b, V then, V otherwise) {
    return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), then);
}
#else
typedef __m256i Integers;
INLINE V fma_(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
INLINE V repeat4(const float *p) { return _mm256_broadcast_ps((const __m128 *)p); }
INLINE V swap_pairs(V v) { return _mm256_permute_ps(v, 0x4e); }
INLINE V swap_neighbours(V v) { return _mm256_permute_ps(v, 0xb1); }
INLINE Integers rounded(V x) { return _mm256_cvtps_epi32(x); }
INLINE Integers halved(Integers i) { return _mm256_srai_epi32(i, 1); }
INLINE Integers difference(Integers a, Integers b) { return _mm256_sub_epi32(a, b); }
INLINE V as_floats(Integers i) { return _mm256_cvtepi32_ps(i); }
INLINE V two_to_the(Integers i) {
    return (V)_mm256_slli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32(127)), 23);
}
INLINE V if_less(V a, V b, V then, V otherwise) {
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
#endif

/* exp(x) as Sleef's expf of 1.0 ulp, which torch uses: exp(s) by a polynomial, times 2^q. The power
 * of two is multiplied in two halves, because 2^q alone may overflow. */
INLINE V exponential(V x) {
    Integers q = rounded(x * all(1.442695040888963407f)), half = halved(q);
    V s = fma_(as_floats(q), all(-0.693145751953125f), x);
    s = fma_(as_floats(q), all(-1.428606765330187045e-06f), s);
    V u = all(0.000198527617612853646278381f);
    u = fma_(u, s, all(0.00139304355252534151077271f));
    u = fma_(u, s, all(0.00833336077630519866943359f));
    u = fma_(u, s, all(0.0416664853692054748535156f));
    u = fma_(u, s, all(0.166666671633720397949219f));
    u = fma_(u, s, all(0.5f));
    u = all(1) + fma_(s * s, u, s);
    u = (u * two_to_the(half)) * two_to_the(difference(q, half));
    u = if_less(x, all(-104), all(0), u);
    return if_less(all(100), x, all(__builtin_inff()), u);
}
/* A matrix that is read in either direction: element (i, k) is at[i * row + k * column]. */
typedef struct { const float *at; int row, column; } View;

/* C [rows, vectors] = A B for one tile. A sum goes through k in order, by fused multiply-adds. */
INLINE void tile(int rows, int vectors, int K, View A, const float *B, int b_row, float *C,
                 int c_row) {
    V sum[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = all(0);
    for (int k = 0; k < K; k++) {
        V b[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) b[v] = load(B + k * b_row + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            V a = all(A.at[r * A.row + k * A.column]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] = fma_(a, b[v], sum[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(C + r * c_row + v * LANES, sum[r][v]);
}

/* C [M, N] = A [M, K] B [K, N], where N is a multiple of LANES. */
static void product(int M, int N, int K, View A, const float *B, int b_row, float *C, int c_row) {
    for (int j = 0; j < N;) {
        int pair = j + 2 * LANES <= N, i = 0;
        for (; i + ROWS <= M; i += ROWS) {
            View rows = {A.at + i * A.row, A.row, A.column};
            if (pair) tile(ROWS, 2, K, rows, B + j, b_row, C + i * c_row + j, c_row);
            else tile(ROWS, 1, K, rows, B + j, b_row, C + i * c_row + j, c_row);
        }
        for (; i < M; i++) {
            View row = {A.at + i * A.row, A.row, A.column};
            if (pair) tile(1, 2, K, row, B + j, b_row, C + i * c_row + j, c_row);
            else tile(1, 1, K, row, B + j, b_row, C + i * c_row + j, c_row);
        }
        j += pair ? 2 * LANES : LANES;
    }
}

/* C [M, N] = A W^T, where products and sums are rounded apart: by 4 lanes for whole fours of
 * columns, by 8 for the rest. A library may add up a narrow output so. `packed` is W by `pack`, and
 * K is a multiple of 16. */
static void product_by_lanes(int M, int N, int K, const float *A, const float *packed,
                             const float *W, float *C, int c_row) {
    int fours = N - N % 4;
    for (int i = 0; i < M; i++, A += K, C += c_row) {
        for (int j = 0; j < 4 * fours; j += LANES) {
            V sum = all(0);
            for (int k = 0; k < K; k += 4)
                sum = sum + repeat4(A + k) * load(packed + k * fours + j);
            sum = sum + swap_pairs(sum); /* (s0 + s2) + (s1 + s3) of each four lanes */
            sum = sum + swap_neighbours(sum);
#pragma GCC unroll 4
            for (int c = 0; c < LANES / 4; c++) C[j / 4 + c] = sum[4 * c];
        }
        for (int j = fours; j < N; j++) {
            V8 sum = {0};
            for (int k = 0; k < K; k += 8)
                sum = sum + *(const Loose8 *)(A + k) * *(const Loose8 *)(W + j * K + k);
            V4 half = _mm256_castps256_ps128(sum) + _mm256_extractf128_ps(sum, 1);
            C[j] = (half[0] + half[2]) + (half[1] + half[3]);
        }
    }
}

/* packed = W [N, K] as [K / 4][fours][4], so that a vector holds the same four k of several
 * columns. */
static void pack(int N, int K, const float *W, float *packed) {
    int fours = N - N % 4;
    for (int k = 0; k < K; k++)
        for (int j = 0; j < fours; j++)
            packed[(k - k % 4) * fours + 4 * j + k % 4] = W[j * K + k];
}

/* mu of the layer below the input, for `vectors` vectors of units from `first` on. Blocks of pixels
 * are summed apart, and then the sums are added. */
INLINE void predict_from_pixels(const Trial *trial, const Batches *b, int update, int first,
                                int vectors) {
    int l = trial->l_max - 1, n = trial->width[l], pixels = trial->width[l + 1], B = b->batch;
    int blocks = (pixels + trial->block - 1) / trial->block;
    const int32_t *row = b->sample_rows + (int64_t)update * blocks * B;
    const float *theta = trial->theta[l] + first;
    for (int block = 0; block < blocks; block++)
        for (int i = 0; i < B; i++, row++) {
            V sum[2] = {all(0), all(0)};
            for (const Entry *e = b->samples + row[0]; e < b->samples + row[1]; e++)
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sum[v] = fma_(all(e->value), load(theta + e->at * n + v * LANES), sum[v]);
            float *mu = trial->mu[l] + i * n + first;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                store(mu + v * LANES, block ? load(mu + v * LANES) + sum[v] : sum[v]);
        }
}

/* theta += rate eps f(x)^T of the input layer, for `eps` [B, n] and the same units. */
INLINE void learn_from_pixels(const Trial *trial, const Batches *b, int update, const float *eps,
                              int first, int vectors) {
    int l = trial->l_max - 1, n = trial->width[l], pixels = trial->width[l + 1];
    const int32_t *row = b->pixel_rows + (int64_t)update * pixels;
    float *theta = trial->theta[l] + first;
    for (int k = 0; k < pixels; k++, row++, theta += n) {
        if (row[0] == row[1]) continue;
        V sum[2] = {all(0), all(0)};
        for (const Entry *e = b->pixels + row[0]; e < b->pixels + row[1]; e++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[v] = fma_(load(eps + e->at * n + first + v * LANES), all(e->value), sum[v]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store(theta + v * LANES, fma_(all(trial->rate), sum[v], load(theta + v * LANES)));
    }
}

static void transpose(const Trial *trial, int l) {
    int n = trial->width[l], m = trial->width[l + 1], stride = trial->stride[l];
    const float *theta = trial->theta[l];
    float *to = trial->transposed[l];
    for (int k = 0; k < m; k++)
        for (int j = 0; j < n; j++) to[k * stride + j] = theta[j * m + k];
}

/* `stale[l]` says whether theta^{l+1} has changed since it was last transposed or packed. */
static void predict(const Trial *trial, const Batches *b, int update, int l, char *stale) {
    int n = trial->width[l], m = trial->width[l + 1], B = b->batch, stride = trial->stride[l];
    const float *theta = trial->theta[l], *fx = trial->fx[l + 1];
    float *transposed = trial->transposed[l], *mu = trial->mu[l];
    if (l == trial->l_max - 1) {
        int j = 0;
        for (; j + 2 * LANES <= n; j += 2 * LANES) predict_from_pixels(trial, b, update, j, 2);
        for (; j < n; j += LANES) predict_from_pixels(trial, b, update, j, 1);
    } else if (trial->order[l] == BY_LANES) {
        if (stale[l]) pack(n, m, theta, transposed);
        stale[l] = 0;
        product_by_lanes(B, n, m, fx, transposed, theta, mu, stride);
    } else if (trial->order[l] == BY_LIBRARY) {
        float one = 1, zero = 0;
        trial->gemm("T", "N", &n, &B, &m, &one, theta, &m, fx, &m, &zero, mu, &stride);
    } else {
        if (stale[l]) transpose(trial, l);
        stale[l] = 0;
        product(B, stride, m, (View){fx, m, 1}, transposed, stride, mu, stride);
    }
}

static void learn(const Trial *trial, const Batches *b, int update, int l, const float *eps,
                  char *stale) {
    int n = trial->width[l], m = trial->width[l + 1];
    if (l == trial->l_max - 1) {
        int j = 0;
        for (; j + 2 * LANES <= n; j += 2 * LANES) learn_from_pixels(trial, b, update, eps, j, 2);
        for (; j < n; j += LANES) learn_from_pixels(trial, b, update, eps, j, 1);
        return;
    }
    float *theta = trial->theta[l], *change = trial->change;
    View transposed = {eps, 1, trial->stride[l]};
    product(n, m, b->batch, transposed, trial->fx[l + 1], m, change, m);
    for (int i = 0; i < n * m; i += LANES)
        store(theta + i, fma_(load(change + i), all(trial->rate), load(theta + i)));
    stale[l] = 1;
}

static void begin(const Trial *trial, const Batches *b, int update, int l) {
    int size = b->batch * trial->width[l];
    memcpy(trial->a[l], trial->mu[l], size * sizeof(float));
    if (!b->noise) {
        memset(trial->d[l], 0, size * sizeof(float));
        return;
    }
    const float *noise = b->noise[l] + (int64_t)update * size;
    for (int i = 0; i < size; i++) trial->d[l][i] = trial->sigma * noise[i];
}

static void clamp(const Trial *trial, const Batches *b, int update) {
    int n = trial->width[0], stride = trial->stride[0], B = b->batch;
    const float *target = b->targets + (int64_t)update * B * n;
    memcpy(trial->a[0], trial->mu[0], B * stride * sizeof(float));
    for (int i = 0; i < B; i++)
        for (int j = 0; j < n; j++) {
            float error = target[i * n + j] - trial->mu[0][i * stride + j];
            trial->d[0][i * stride + j] = error;
            trial->squares[i * n + j] += (double)error * error;
        }
    if (trial->t_d)
        for (int l = 0; l < trial->l_max; l++)
            for (int i = 0; i < B * trial->stride[l]; i++) trial->quiet[l][i] = trial->t_d;
}

static void activate(const Trial *trial, int size, int l) {
    for (int i = 0; i < size; i += LANES) {
        V x = load(trial->a[l] + i) + load(trial->d[l] + i);
        store(trial->buffer[l] + i, x);
        store(trial->fx[l] + i, all(1) / (all(1) + exponential(all(0) - x)));
    }
}

static void compare(const Trial *trial, int size, int l) {
    const float *a = trial->a[l], *d = trial->d[l], *mu = trial->mu[l];
    for (int i = 0; i < size; i += LANES)
        store(trial->eps[l] + i, load(d + i) - (load(mu + i) - load(a + i)));
}

static void listen(const Trial *trial, int size, int l) {
    int32_t *quiet = trial->quiet[l];
    for (int i = 0; i < size; i++) {
        int heard = trial->eps[l][i] != 0;
        trial->phi[l][i] = heard & (quiet[i] >= trial->t_d);
        quiet[i] = heard ? 0 : quiet[i] + 1;
    }
}

/* out = f'(x^l) * (eps^{l-1} theta^l) */
static void pull_back(const Trial *trial, int B, int l, float *out) {
    int n = trial->width[l - 1], m = trial->width[l];
    View eps = {trial->eps[l - 1], trial->stride[l - 1], 1};
    product(B, m, n, eps, trial->theta[l - 1], m, out, m);
    for (int i = 0; i < B * m; i += LANES) {
        V fx = load(trial->fx[l] + i);
        store(out + i, load(out + i) * (all(1) - fx) * fx);
    }
}

static void move(const Trial *trial, int B, int l) {
    float *buffer = trial->buffer[l], *d = trial->d[l];
    pull_back(trial, B, l, buffer);
    for (int i = 0; i < B * trial->width[l]; i += LANES) {
        V change = (load(buffer + i) - load(trial->eps[l] + i)) * all(trial->gamma);
        store(buffer + i, change);
        store(d + i, load(d + i) + change);
    }
}

static const float *gated(const Trial *trial, int size, int l) {
    for (int i = 0; i < size; i++) trial->heard[i] = trial->phi[l][i] ? trial->eps[l][i] : 0;
    return trial->heard;
}

/* Makes the weight updates of these minibatches. */
void train(const Trial *trial, const Batches *b) {
    char stale[MAX_LAYERS];
    memset(stale, 1, sizeof stale);
    for (int update = 0; update < b->updates; update++)
        for (int i = 0; i < trial->instructions; i++) {
            int l = trial->program[2 * i + 1], size = b->batch * trial->stride[l];
            switch (trial->program[2 * i]) {
            case PREDICT: predict(trial, b, update, l, stale); break;
            case BEGIN: begin(trial, b, update, l); break;
            case ACTIVATE: activate(trial, size, l); break;
            case CLAMP: clamp(trial, b, update); break;
            case COMPARE: compare(trial, size, l); break;
            case LISTEN: listen(trial, size, l); break;
            case MOVE: move(trial, b->batch, l); break;
            case LEARN: learn(trial, b, update, l, trial->eps[l], stale); break;
            case LEARN_GATED: learn(trial, b, update, l, gated(trial, size, l), stale); break;
            case PULL_BACK: pull_back(trial, b->batch, l, trial->eps[l]); break;
            }
        }
}

/* Lists the pixels of x [updates, B, n] that are not 0, in both orders of `Batches`. The place
 * after the last entry of a list is written to as well. */
void gather(int32_t updates, int32_t B, int32_t n, int32_t block, const float *x,
            int32_t *sample_rows, Entry *samples, int32_t *pixel_rows, Entry *pixels) {
    int32_t by_sample = 0, by_pixel = 0;
    for (int update = 0; update < updates; update++, x += (int64_t)B * n) {
        for (int first = 0; first < n; first += block)
            for (int i = 0; i < B; i++) {
                *sample_rows++ = by_sample;
                for (int k = first; k < first + block && k < n; k++) {
                    samples[by_sample] = (Entry){k, x[i * n + k]};
                    by_sample += x[i * n + k] != 0;
                }
            }
        for (int k = 0; k < n; k++) {
            *pixel_rows++ = by_pixel;
            for (int i = 0; i < B; i++) {
                pixels[by_pixel] = (Entry){i, x[i * n + k]};
                by_pixel += x[i * n + k] != 0;
            }
        }
    }
    *sample_rows = by_sample;
    *pixel_rows = by_pixel;
}
