/* Weight updates of one trial: all that lies between two of them in one pass over data that stay in
 * cache. The operations are those of pcworker/equations/inference.py (Eq. 5-9), the program is its schedule;
 * each gives the bits that torch gives, which pcworker/kernels/fused/library.py tries before it uses this file.
 *
 * Matrices are float32, by row; B samples, n_l units of layer l. A row of layer 0 has stride[0]
 * places, filled up with zeros; a hidden layer's width is a multiple of 16. theta^{l+1} is
 * [n_l, n_{l+1}], but for the input layer's, which is [n_{l_max}, n_l]: a pixel's weights lie
 * together, and a pixel that is 0 costs nothing.
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

typedef struct { /* some updates' batches of one seed */
    int32_t updates, batch;
    const int32_t *sample_rows; /* [updates, blocks, B] + 1: where in `samples` a row begins */
    const Entry *samples;       /* the pixels that are not 0, of a sample in a block of pixels */
    const int32_t *pixel_rows;  /* [updates, n_{l_max}] + 1 */
    const Entry *pixels;        /* the samples in which a pixel is not 0 */
    const float *targets;       /* [updates, B, n_0] */
    const float *const *noise;  /* by l: [updates, B, n_l], standard normal; NULL: none */
} Batches;

typedef struct { /* one trial, and the memory for what it computes on the way */
    int32_t l_max, instructions, block, t_d;
    float gamma, sigma, rate;
    const int32_t *width, *stride; /* by l; stride[l] places from a row to the next */
    const int32_t *order;          /* by l: BY_FMA, ... */
    const int32_t *program;        /* [instructions, 2]: operation, layer */
    Gemm *gemm;
    float *const *theta;           /* by l: theta^{l+1} */
    float *const *transposed;      /* by l: theta^{l+1} as predict wants it: [n_{l+1}, stride[l]] */
    float *const *a, *const *d;    /* x = a + d, by l: see pcworker/equations/activity.py */
    float *const *fx, *const *mu, *const *eps, *const *buffer;
    int32_t *const *phi, *const *quiet;
    float *change;                 /* of one layer's weights */
    float *heard;                  /* the errors of one layer that phi lets through */
    double *squares;               /* [B, n_0]: of the output errors at t = 0, added up */
} Trial;

#define INLINE static inline __attribute__((always_inline))

INLINE V load(const float *p) { return *(const Loose *)p; }
INLINE void store(float *p, V v) { *(Loose *)p = v; }
INLINE V all(float value) { return value - (V){0}; }

#if defined(__AVX512F__)
INLINE V fma_(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
INLINE V repeat4(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
#define SWAP_PAIRS(v) (V)_mm512_permute_ps(v, 0x4e)
#define SWAP_NEIGHBOURS(v) (V)_mm512_permute_ps(v, 0xb1)
INLINE V exponential(V x) {
    __m512i q = _mm512_cvtps_epi32(x * all(1.442695040888963407f)), half = _mm512_srai_epi32(q, 1);
    V n = _mm512_cvtepi32_ps(q);
#define SHIFTED(i) (V)_mm512_slli_epi32(_mm512_add_epi32(i, _mm512_set1_epi32(127)), 23)
#define SCALED(u) (u * SHIFTED(half)) * SHIFTED(_mm512_sub_epi32(q, half))
#define LIMITED(u) _mm512_mask_mov_ps(                                                         \
        _mm512_mask_mov_ps(u, _mm512_cmp_ps_mask(x, all(-104), _CMP_LT_OQ), all(0)),            \
        _mm512_cmp_ps_mask(all(100), x, _CMP_LT_OQ), all(__builtin_inff()))
#else
INLINE V fma_(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
INLINE V repeat4(const float *p) { return _mm256_broadcast_ps((const __m128 *)p); }
#define SWAP_PAIRS(v) (V)_mm256_permute_ps(v, 0x4e)
#define SWAP_NEIGHBOURS(v) (V)_mm256_permute_ps(v, 0xb1)
INLINE V exponential(V x) {
    __m256i q = _mm256_cvtps_epi32(x * all(1.442695040888963407f)), half = _mm256_srai_epi32(q, 1);
    V n = _mm256_cvtepi32_ps(q);
#define SHIFTED(i) (V)_mm256_slli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32(127)), 23)
#define SCALED(u) (u * SHIFTED(half)) * SHIFTED(_mm256_sub_epi32(q, half))
#define LIMITED(u) _mm256_blendv_ps(                                                           \
        _mm256_blendv_ps(u, all(0), _mm256_cmp_ps(x, all(-104), _CMP_LT_OQ)),                   \
        all(__builtin_inff()), _mm256_cmp_ps(all(100), x, _CMP_LT_OQ))
#endif
    /* as Sleef's expf of 1.0 ulp, which torch uses: exp(s) by a polynomial, times 2^q */
    V s = fma_(n, all(-0.693145751953125f), x);
    s = fma_(n, all(-1.428606765330187045e-06f), s);
    V u = all(0.000198527617612853646278381f);
    u = fma_(u, s, all(0.00139304355252534151077271f));
    u = fma_(u, s, all(0.00833336077630519866943359f));
    u = fma_(u, s, all(0.0416664853692054748535156f));
    u = fma_(u, s, all(0.166666671633720397949219f));
    u = fma_(u, s, all(0.5f));
    u = all(1) + fma_(s * s, u, s);
    u = SCALED(u);
    return LIMITED(u);
}

/* C [rows, vectors] = A B for one tile; a sum goes through k in order, by fused multiply-adds. */
INLINE void tile(int rows, int vectors, int K, const float *A, int row, int k_step, const float *B,
                 int b_row, float *C, int c_row) {
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
            V a = all(A[r * row + k * k_step]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] = fma_(a, b[v], sum[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(C + r * c_row + v * LANES, sum[r][v]);
}

/* C [M, N] = A B, N a multiple of LANES; A's element (i, k) is at A[i * row + k * k_step]. */
static void product(int M, int N, int K, const float *A, int row, int k_step, const float *B,
                    int b_row, float *C, int c_row) {
    for (int j = 0; j < N;) {
        int pair = j + 2 * LANES <= N, i = 0;
        for (; i + ROWS <= M; i += ROWS)
            if (pair) tile(ROWS, 2, K, A + i * row, row, k_step, B + j, b_row, C + i * c_row + j, c_row);
            else tile(ROWS, 1, K, A + i * row, row, k_step, B + j, b_row, C + i * c_row + j, c_row);
        for (; i < M; i++)
            if (pair) tile(1, 2, K, A + i * row, row, k_step, B + j, b_row, C + i * c_row + j, c_row);
            else tile(1, 1, K, A + i * row, row, k_step, B + j, b_row, C + i * c_row + j, c_row);
        j += pair ? 2 * LANES : LANES;
    }
}

/* C [M, N] = A W^T with products and sums apart, by 4 lanes for whole fours of columns, by 8 for the
 * rest: how a library may add up a narrow output. `packed` is by `pack`; K is a multiple of 16. */
static void product_by_lanes(int M, int N, int K, const float *A, const float *packed, const float *W,
                             float *C, int c_row) {
    int fours = N - N % 4;
    for (int i = 0; i < M; i++, A += K, C += c_row) {
        for (int j = 0; j < 4 * fours; j += LANES) {
            V sum = all(0);
            for (int k = 0; k < K; k += 4) sum = sum + repeat4(A + k) * load(packed + k * fours + j);
            sum = sum + SWAP_PAIRS(sum); /* (s0 + s2) + (s1 + s3) of each four lanes */
            sum = sum + SWAP_NEIGHBOURS(sum);
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

/* [K / 4][fours][4] of W [N, K]: a vector holds the same four k of several columns. */
static void pack(int N, int K, const float *W, float *packed) {
    int fours = N - N % 4;
    for (int k = 0; k < K; k++)
        for (int j = 0; j < fours; j++) packed[(k - k % 4) * fours + 4 * j + k % 4] = W[j * K + k];
}

/* mu of the layer below the input: blocks of pixels are summed apart, then added up. */
INLINE void predict_from_pixels(const Trial *t, const Batches *b, int update, int first, int vectors) {
    int l = t->l_max - 1, n = t->width[l], pixels = t->width[l + 1], B = b->batch;
    int blocks = (pixels + t->block - 1) / t->block;
    const int32_t *row = b->sample_rows + (int64_t)update * blocks * B;
    const float *theta = t->theta[l] + first;
    for (int block = 0; block < blocks; block++)
        for (int i = 0; i < B; i++, row++) {
            V sum[2] = {all(0), all(0)};
            for (const Entry *e = b->samples + row[0]; e < b->samples + row[1]; e++)
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sum[v] = fma_(all(e->value), load(theta + e->at * n + v * LANES), sum[v]);
            float *mu = t->mu[l] + i * n + first;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                store(mu + v * LANES, block ? load(mu + v * LANES) + sum[v] : sum[v]);
        }
}

/* theta += rate eps f(x)^T of the input layer, for `eps` [B, n]. */
INLINE void learn_from_pixels(const Trial *t, const Batches *b, int update, const float *eps, int first,
                              int vectors) {
    int l = t->l_max - 1, n = t->width[l], pixels = t->width[l + 1];
    const int32_t *row = b->pixel_rows + (int64_t)update * pixels;
    float *theta = t->theta[l] + first;
    for (int k = 0; k < pixels; k++, row++, theta += n) {
        if (row[0] == row[1]) continue;
        V sum[2] = {all(0), all(0)};
        for (const Entry *e = b->pixels + row[0]; e < b->pixels + row[1]; e++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[v] = fma_(load(eps + e->at * n + first + v * LANES), all(e->value), sum[v]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store(theta + v * LANES, fma_(all(t->rate), sum[v], load(theta + v * LANES)));
    }
}

static void transpose(const Trial *t, int l) {
    int n = t->width[l], m = t->width[l + 1], stride = t->stride[l];
    const float *theta = t->theta[l];
    float *to = t->transposed[l];
    for (int k = 0; k < m; k++)
        for (int j = 0; j < n; j++) to[k * stride + j] = theta[j * m + k];
}

static void predict(const Trial *t, const Batches *b, int update, int l, char *stale) {
    int n = t->width[l], m = t->width[l + 1], B = b->batch, stride = t->stride[l];
    if (l == t->l_max - 1) {
        int j = 0;
        for (; j + 2 * LANES <= n; j += 2 * LANES) predict_from_pixels(t, b, update, j, 2);
        for (; j < n; j += LANES) predict_from_pixels(t, b, update, j, 1);
    } else if (t->order[l] == BY_LANES) {
        if (stale[l]) pack(n, m, t->theta[l], t->transposed[l]);
        stale[l] = 0;
        product_by_lanes(B, n, m, t->fx[l + 1], t->transposed[l], t->theta[l], t->mu[l], stride);
    } else if (t->order[l] == BY_LIBRARY) {
        float one = 1, zero = 0;
        t->gemm("T", "N", &n, &B, &m, &one, t->theta[l], &m, t->fx[l + 1], &m, &zero, t->mu[l], &stride);
    } else {
        if (stale[l]) transpose(t, l);
        stale[l] = 0;
        product(B, stride, m, t->fx[l + 1], m, 1, t->transposed[l], stride, t->mu[l], stride);
    }
}

static void learn(const Trial *t, const Batches *b, int update, int l, const float *eps, char *stale) {
    int n = t->width[l], m = t->width[l + 1];
    if (l == t->l_max - 1) {
        int j = 0;
        for (; j + 2 * LANES <= n; j += 2 * LANES) learn_from_pixels(t, b, update, eps, j, 2);
        for (; j < n; j += LANES) learn_from_pixels(t, b, update, eps, j, 1);
        return;
    }
    product(n, m, b->batch, eps, 1, t->stride[l], t->fx[l + 1], m, t->change, m);
    for (int i = 0; i < n * m; i += LANES)
        store(t->theta[l] + i, fma_(load(t->change + i), all(t->rate), load(t->theta[l] + i)));
    stale[l] = 1;
}

static void begin(const Trial *t, const Batches *b, int update, int l) {
    int size = b->batch * t->width[l];
    memcpy(t->a[l], t->mu[l], size * sizeof(float));
    if (!b->noise) {
        memset(t->d[l], 0, size * sizeof(float));
        return;
    }
    const float *noise = b->noise[l] + (int64_t)update * size;
    for (int i = 0; i < size; i++) t->d[l][i] = t->sigma * noise[i];
}

static void clamp(const Trial *t, const Batches *b, int update) {
    int n = t->width[0], stride = t->stride[0], B = b->batch;
    const float *target = b->targets + (int64_t)update * B * n;
    memcpy(t->a[0], t->mu[0], B * stride * sizeof(float));
    for (int i = 0; i < B; i++)
        for (int j = 0; j < n; j++) {
            float error = target[i * n + j] - t->mu[0][i * stride + j];
            t->d[0][i * stride + j] = error;
            t->squares[i * n + j] += (double)error * error;
        }
    if (t->t_d)
        for (int l = 0; l < t->l_max; l++)
            for (int i = 0; i < B * t->stride[l]; i++) t->quiet[l][i] = t->t_d;
}

static void activate(const Trial *t, int size, int l) {
    for (int i = 0; i < size; i += LANES) {
        V x = load(t->a[l] + i) + load(t->d[l] + i);
        store(t->buffer[l] + i, x);
        store(t->fx[l] + i, all(1) / (all(1) + exponential(all(0) - x)));
    }
}

static void compare(const Trial *t, int size, int l) {
    for (int i = 0; i < size; i += LANES)
        store(t->eps[l] + i, load(t->d[l] + i) - (load(t->mu[l] + i) - load(t->a[l] + i)));
}

static void listen(const Trial *t, int size, int l) {
    int32_t *quiet = t->quiet[l];
    for (int i = 0; i < size; i++) {
        int heard = t->eps[l][i] != 0;
        t->phi[l][i] = heard & (quiet[i] >= t->t_d);
        quiet[i] = heard ? 0 : quiet[i] + 1;
    }
}

/* out = f'(x^l) * (eps^{l-1} theta^l) */
static void pull_back(const Trial *t, int B, int l, float *out) {
    int m = t->width[l];
    product(B, m, t->width[l - 1], t->eps[l - 1], t->stride[l - 1], 1, t->theta[l - 1], m, out, m);
    for (int i = 0; i < B * m; i += LANES) {
        V fx = load(t->fx[l] + i);
        store(out + i, load(out + i) * (all(1) - fx) * fx);
    }
}

static void move(const Trial *t, int B, int l) {
    pull_back(t, B, l, t->buffer[l]);
    for (int i = 0; i < B * t->width[l]; i += LANES) {
        V change = (load(t->buffer[l] + i) - load(t->eps[l] + i)) * all(t->gamma);
        store(t->buffer[l] + i, change);
        store(t->d[l] + i, load(t->d[l] + i) + change);
    }
}

static const float *gated(const Trial *t, int size, int l) {
    for (int i = 0; i < size; i++) t->heard[i] = t->phi[l][i] ? t->eps[l][i] : 0;
    return t->heard;
}

void train(const Trial *t, const Batches *b) {
    char stale[MAX_LAYERS];
    memset(stale, 1, sizeof stale);
    for (int update = 0; update < b->updates; update++)
        for (int i = 0; i < t->instructions; i++) {
            int l = t->program[2 * i + 1], size = b->batch * t->stride[l];
            switch (t->program[2 * i]) {
            case PREDICT: predict(t, b, update, l, stale); break;
            case BEGIN: begin(t, b, update, l); break;
            case ACTIVATE: activate(t, size, l); break;
            case CLAMP: clamp(t, b, update); break;
            case COMPARE: compare(t, size, l); break;
            case LISTEN: listen(t, size, l); break;
            case MOVE: move(t, b->batch, l); break;
            case LEARN: learn(t, b, update, l, t->eps[l], stale); break;
            case LEARN_GATED: learn(t, b, update, l, gated(t, size, l), stale); break;
            case PULL_BACK: pull_back(t, b->batch, l, t->eps[l]); break;
            }
        }
}

/* The pixels [updates, B, n] that are not 0, in both orders of `Batches`. */
void gather(int32_t updates, int32_t B, int32_t n, int32_t block, const float *x, int32_t *sample_rows,
            Entry *samples, int32_t *pixel_rows, Entry *pixels) {
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
